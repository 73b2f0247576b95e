//! Who is calling, and may they: keys, identities, permissions, and the one Gate that both protocols pass.

pub mod actor;
pub mod budget;
pub mod caller;
pub mod gate;
pub mod hashing;
pub mod instance;
pub mod once;
pub mod permission;
pub mod snapshot;
mod store;
pub mod token;
pub mod usage;

pub use budget::{Budget, Network};
pub use caller::{Call, Caller, Identity};
pub use gate::{Admitted, Gate};
pub use hashing::Hashing;
pub use instance::InstanceKey;
pub use once::Ledger;
pub use permission::{Grant, Grants};
pub use snapshot::Snapshot;
pub use token::Token;

use crate::database::id::id;

id! {
    /// An application.
    ApplicationId
}
