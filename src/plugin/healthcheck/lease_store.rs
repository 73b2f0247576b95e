//! Every statement about which replica runs which checks. Only with PostgreSQL: one process is alone with an `SQLite`
//! file, and runs them all. Times are those of the database.

use crate::database::{Writer, sql};
use crate::error::Result;
use uuid::Uuid;

/// Checks are shared out by parts of this number: enough for a fair share among a dozen replicas, few enough to renew in
/// one statement.
pub const SHARDS: i64 = 256;

/// A lease is good for so long without being renewed.
pub const LEASE_US: i64 = 5_000_000;

/// A shard that is held, and by which count of holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Lease {
    /// The shard.
    pub shard: i64,
    /// Grows with each new holder.
    pub epoch: i64,
}

impl Writer {
    /// Says that a replica is there, forgets those that are not, and answers how many there are.
    pub(crate) async fn count_replicas(&mut self, me: Uuid) -> Result<i64> {
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_replica (id, seen_until) values ($1, $2) on conflict do nothing",
                postgres: "insert into healthcheck_replica (id, seen_until)
                           values ($1, (extract(epoch from clock_timestamp()) * 1000000)::bigint + $2)
                           on conflict (id) do update set seen_until = excluded.seen_until",
            },
            me,
            LEASE_US
        )?;
        sql!(self, execute, {
            sqlite: "select 1",
            postgres: "delete from healthcheck_replica where id in (
                           select id from healthcheck_replica
                           where seen_until < (extract(epoch from clock_timestamp()) * 1000000)::bigint
                           for update skip locked)",
        })?;
        let (count,) = sql!(self, fetch_one as (i64,), "select count(*) from healthcheck_replica")?;
        Ok(count)
    }

    /// Says that a replica goes.
    pub(crate) async fn forget_replica(&mut self, me: Uuid) -> Result<u64> {
        sql!(self, execute, "delete from healthcheck_replica where id = $1", me)
    }

    /// Makes the shards, once: asked each time, for it costs as much as to ask whether.
    pub(crate) async fn make_shards(&mut self) -> Result<u64> {
        let numbers = serde_json::json!((0..SHARDS).collect::<Vec<_>>()).to_string();
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_lease (shard, epoch, expires_at)
                         select value, 0, 0 from json_each($1) where true on conflict do nothing",
                postgres: "insert into healthcheck_lease (shard, epoch, expires_at)
                           select value::bigint, 0, 0 from json_array_elements_text(cast($1 as json))
                           on conflict do nothing",
            },
            numbers
        )
    }

    /// Renews what is held, and answers it. What has expired meanwhile is lost. Locked in the order in which all others
    /// lock them.
    pub(crate) async fn renew_leases(&mut self, me: Uuid) -> Result<Vec<Lease>> {
        sql!(
            self,
            fetch_all as Lease,
            {
                sqlite: "update healthcheck_lease set expires_at = $2 where holder = $1 returning shard, epoch",
                postgres: "update healthcheck_lease
                           set expires_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint + $2
                           where shard in (
                               select shard from healthcheck_lease
                               where holder = $1 and expires_at > (extract(epoch from clock_timestamp()) * 1000000)::bigint
                               order by shard for update)
                           returning shard, epoch",
            },
            me,
            LEASE_US
        )
    }

    /// Takes shards that nobody holds, at most so many.
    pub(crate) async fn take_leases(&mut self, me: Uuid, most: i64) -> Result<Vec<Lease>> {
        sql!(
            self,
            fetch_all as Lease,
            {
                sqlite: "update healthcheck_lease set holder = $1, epoch = epoch + 1, expires_at = $2
                         where shard in (select shard from healthcheck_lease where holder is null limit $3)
                         returning shard, epoch",
                postgres: "update healthcheck_lease set holder = $1, epoch = epoch + 1,
                               expires_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint + $2
                           where shard in (
                               select shard from healthcheck_lease
                               where expires_at <= (extract(epoch from clock_timestamp()) * 1000000)::bigint
                               order by shard limit $3 for update skip locked)
                           returning shard, epoch",
            },
            me,
            LEASE_US,
            most
        )
    }

    /// Gives shards back.
    pub(crate) async fn give_back_leases(&mut self, me: Uuid, shards: &[i64]) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "update healthcheck_lease set holder = null, expires_at = 0
                         where holder = $1 and shard in (select value from json_each($2))",
                postgres: "update healthcheck_lease set holder = null, expires_at = 0
                           where shard in (
                               select shard from healthcheck_lease
                               where holder = $1
                                 and shard in (select value::bigint from json_array_elements_text(cast($2 as json)))
                               order by shard for update)",
            },
            me,
            serde_json::json!(shards).to_string()
        )
    }

    /// Which leases stand, and do so until the end of the transaction: nobody else can take them meanwhile.
    pub(super) async fn standing_leases(&mut self, me: Uuid) -> Result<Vec<Lease>> {
        sql!(
            self,
            fetch_all as Lease,
            {
                sqlite: "select shard, epoch from healthcheck_lease where holder = $1",
                postgres: "select shard, epoch from healthcheck_lease
                           where holder = $1 and expires_at > (extract(epoch from clock_timestamp()) * 1000000)::bigint
                           order by shard for share",
            },
            me
        )
    }
}
