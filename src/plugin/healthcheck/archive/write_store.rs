//! Every statement that seals, and those that lock what is to be sealed.

use super::span::Span;
use super::store::{Archive, NewChunk, Owner, Piece, StatusChange, spans};
use crate::database::{Writer, sql};
use crate::error::Result;
use crate::plugin::healthcheck::domain::Health;
use serde_json::{Value, json};

fn rows(pieces: &[Piece]) -> String {
    let row = |piece: &Piece| json!([piece.association, piece.at, hex(&piece.data)]);
    Value::from(pieces.iter().map(row).collect::<Vec<_>>()).to_string()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl Writer {
    /// An archive that begins with an hour: there are no runs before it yet.
    pub(in crate::plugin::healthcheck) async fn insert_archive(&mut self, association: i64, upto: i64) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into healthcheck_archive (association, upto, raw_from, hour_from, stored, swept_on)
             values ($1, $2, 0, 0, 0, 0)",
            association,
            upto
        )
    }

    /// Those that are furthest behind, but none that is set aside; nobody else seals or records runs of them until the end
    /// of the transaction.
    pub(super) async fn lock_unsealed(&mut self, upto: i64, limit: i64, aside: &[i64]) -> Result<Vec<Owner>> {
        let locked = sql!(
            self,
            fetch_all as (i64,),
            {
                sqlite: "select archive.association from healthcheck_archive as archive
                         join healthcheck_association as owner on owner.number = archive.association
                         where upto < $1 and archive.association not in (select value from json_each($3))
                         order by upto, archive.association limit $2",
                postgres: "select archive.association from healthcheck_archive as archive
                           join healthcheck_association as owner on owner.number = archive.association
                           where upto < $1 and archive.association not in (
                               select value::bigint from json_array_elements_text(cast($3 as json)))
                           order by upto, archive.association limit $2
                           for update of archive, owner skip locked",
            },
            upto,
            limit,
            json!(aside).to_string()
        )?;
        // Read after the lock: what is read with it is as of before, and runs may have come meanwhile.
        self.owners(&locked.into_iter().map(|(number,)| number).collect::<Vec<_>>()).await
    }

    /// These; nobody else seals or records runs of them until the end of the transaction. Owners are locked before archives,
    /// as everybody does who waits for either.
    pub(in crate::plugin::healthcheck) async fn lock_owners(&mut self, associations: &[i64]) -> Result<Vec<Owner>> {
        self.lock_associations(associations).await?;
        sql!(
            self,
            execute,
            {
                sqlite: "select $1",
                postgres: "select association from healthcheck_archive
                           where association in (select value::bigint from json_array_elements_text(cast($1 as json)))
                           order by association for update",
            },
            json!(associations).to_string()
        )?;
        self.owners(associations).await
    }

    pub(super) async fn save_chunks(&mut self, chunks: &[NewChunk]) -> Result<u64> {
        let row = |NewChunk { piece, runs }: &NewChunk| json!([piece.association, piece.at, runs, hex(&piece.data)]);
        let rows = Value::from(chunks.iter().map(row).collect::<Vec<_>>()).to_string();
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_chunk (association, hour, runs, data)
                         select value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3) from json_each($1) where true
                         on conflict (association, hour) do update set runs = excluded.runs, data = excluded.data",
                postgres: "insert into healthcheck_chunk (association, hour, runs, data)
                           select (value ->> 0)::bigint, (value ->> 1)::bigint, (value ->> 2)::bigint, decode(value ->> 3, 'hex')
                           from json_array_elements(cast($1 as json)) as rows (value)
                           on conflict (association, hour) do update set runs = excluded.runs, data = excluded.data",
            },
            rows
        )
    }

    pub(super) async fn save_hours(&mut self, tallies: &[Piece]) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_hour (association, hour, data)
                         select value ->> 0, value ->> 1, unhex(value ->> 2) from json_each($1) where true
                         on conflict (association, hour) do update set data = excluded.data",
                postgres: "insert into healthcheck_hour (association, hour, data)
                           select (value ->> 0)::bigint, (value ->> 1)::bigint, decode(value ->> 2, 'hex')
                           from json_array_elements(cast($1 as json)) as rows (value)
                           on conflict (association, hour) do update set data = excluded.data",
            },
            rows(tallies)
        )
    }

    pub(super) async fn save_days(&mut self, tallies: &[Piece]) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_day (association, day, data)
                         select value ->> 0, value ->> 1, unhex(value ->> 2) from json_each($1) where true
                         on conflict (association, day) do update set data = excluded.data",
                postgres: "insert into healthcheck_day (association, day, data)
                           select (value ->> 0)::bigint, (value ->> 1)::bigint, decode(value ->> 2, 'hex')
                           from json_array_elements(cast($1 as json)) as rows (value)
                           on conflict (association, day) do update set data = excluded.data",
            },
            rows(tallies)
        )
    }

    pub(super) async fn save_details(&mut self, details: &[Piece]) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_detail (association, hour, data)
                         select value ->> 0, value ->> 1, unhex(value ->> 2) from json_each($1) where true
                         on conflict (association, hour) do update set data = excluded.data",
                postgres: "insert into healthcheck_detail (association, hour, data)
                           select (value ->> 0)::bigint, (value ->> 1)::bigint, decode(value ->> 2, 'hex')
                           from json_array_elements(cast($1 as json)) as rows (value)
                           on conflict (association, hour) do update set data = excluded.data",
            },
            rows(details)
        )
    }

    /// Deletes runs that are in chunks now.
    pub(super) async fn delete_hot(&mut self, sealed: &[(i64, Span)]) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "delete from healthcheck_run where (association, scheduled_at) in (
                             select run.association, run.scheduled_at from json_each($1) as wanted
                             join healthcheck_run as run on run.association = wanted.value ->> 0
                                 and run.scheduled_at >= wanted.value ->> 1 and run.scheduled_at < wanted.value ->> 2)",
                postgres: "delete from healthcheck_run as run using json_array_elements(cast($1 as json)) as wanted (value)
                           where run.association = (wanted.value ->> 0)::bigint
                             and run.scheduled_at >= (wanted.value ->> 1)::bigint
                             and run.scheduled_at < (wanted.value ->> 2)::bigint",
            },
            spans(sealed)
        )
    }

    pub(super) async fn save_archives(&mut self, archives: &[Archive]) -> Result<u64> {
        let row = |one: &Archive| {
            let status = one.last_status.map(Health::word);
            json!([one.association, one.upto, one.last_at.map(|at| at.0), status, one.stored])
        };
        sql!(
            self,
            execute,
            {
                sqlite: "update healthcheck_archive set upto = value ->> 1, last_at = value ->> 2, last_status = value ->> 3,
                             stored = value ->> 4
                         from json_each($1) where association = value ->> 0",
                postgres: "update healthcheck_archive set upto = (value ->> 1)::bigint, last_at = (value ->> 2)::bigint,
                               last_status = value ->> 3, stored = (value ->> 4)::bigint
                           from json_array_elements(cast($1 as json)) as rows (value) where association = (value ->> 0)::bigint",
            },
            Value::from(archives.iter().map(row).collect::<Vec<_>>()).to_string()
        )
    }

    /// Puts off the next look for what is too old: what was just imported may be older than it is kept.
    pub(super) async fn put_off_sweep(&mut self, association: i64, day: i64) -> Result<u64> {
        sql!(
            self,
            execute,
            "update healthcheck_archive set swept_on = $2 where association = $1 and swept_on < $2",
            association,
            day
        )
    }

    pub(in crate::plugin::healthcheck) async fn insert_status_changes(
        &mut self,
        changes: &[StatusChange],
    ) -> Result<u64> {
        let row = |one: &StatusChange| json!([one.association, one.at.0, one.status.word()]);
        sql!(
            self,
            execute,
            {
                sqlite: "insert into healthcheck_status_change (association, at, status)
                         select value ->> 0, value ->> 1, value ->> 2 from json_each($1) where true
                         on conflict (association, at) do update set status = excluded.status",
                postgres: "insert into healthcheck_status_change (association, at, status)
                           select (value ->> 0)::bigint, (value ->> 1)::bigint, value ->> 2
                           from json_array_elements(cast($1 as json)) as rows (value)
                           on conflict (association, at) do update set status = excluded.status",
            },
            Value::from(changes.iter().map(row).collect::<Vec<_>>()).to_string()
        )
    }
}
