//! What exists at first start: the roles, and the application `bootstrap`.

use super::domain::{ADMIN, ANONYMOUS, APPLICATIONS, Role};
use crate::access::{Call, Grant, Grants, Token};
use crate::contract::PERMISSIONS;
use crate::database::Timestamp;
use crate::error::Result;
use crate::plugin::Kernel;

/// Makes the roles of a new installation. Does nothing on any later start, also when two replicas start at once.
pub async fn seed(kernel: &Kernel, call: &Call) -> Result<()> {
    let mut store = kernel.database.writer().await?;
    if !store.begin_instance(call.now).await? {
        return Ok(());
    }
    for role in initial_roles(call.now) {
        store.insert_role(&role).await?;
    }
    kernel.commit(store, call.did("role.created", "initial roles")).await?;
    Ok(())
}

/// Decides for good that there will be no application `bootstrap`.
pub async fn decline_bootstrap(kernel: &Kernel, call: &Call) -> Result<()> {
    let mut store = kernel.database.writer().await?;
    store.begin_bootstrap(call.now).await?;
    store.commit_unseen("nothing was made").await
}

/// Makes the application `bootstrap` with the role `admin`, if nobody can call yet and nobody ever could.
pub async fn bootstrap(kernel: &Kernel, call: &Call) -> Result<Option<Token>> {
    let roles = [ADMIN, APPLICATIONS].map(str::to_owned).to_vec();
    let description = Some("Made at first start; replace it by applications of your own".to_owned());
    let new = kernel.new_application("bootstrap".to_owned(), description, roles, None, call);
    if kernel.snapshot.size() > 0 {
        return Ok(None);
    }
    let (token, secret) = kernel.new_secret(new.id).await?;
    let mut store = kernel.database.writer().await?;
    if !store.begin_bootstrap(call.now).await? {
        return Ok(None);
    }
    store.insert_application(&new, &secret).await?;
    store.set_roles(new.id, &new.roles).await?;
    kernel.commit(store, call.did("application.created", new.id)).await?;
    Ok(Some(token))
}

fn initial_roles(now: Timestamp) -> Vec<Role> {
    let role = |id: &str, name: &str, description: &str, grants, is_system| Role {
        id: id.to_owned(),
        name: name.to_owned(),
        description: Some(description.to_owned()),
        grants,
        is_system,
        created_at: now,
        updated_at: now,
    };
    let initial = |role: &str| -> Grants {
        let held = PERMISSIONS.iter().filter(|permission| permission.initial_roles.contains(&role));
        held.map(|permission| Grant::One(permission.id)).collect()
    };
    let none = Grants::default;
    vec![
        role(ADMIN, "Administrators", "May do everything", Grants::all(), true),
        role("users", "Users", "What every user may do", none(), true),
        role(ANONYMOUS, "Anonymous", "What callers without a key may do", none(), true),
        role(APPLICATIONS, "Applications", "What every new application may do", none(), true),
        role("reader", "Reader", "Reads systems, status, maintenance and incidents", initial("reader"), false),
        role(
            "operator",
            "Operator",
            "Runs the catalog, health checks, maintenance and incidents",
            initial("operator"),
            false,
        ),
    ]
}
