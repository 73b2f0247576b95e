//! One port, two protocols: the accept loop, the JSON gateway, the gRPC assembly. Names no procedure.
//!
//! [`edge`] is where every request comes in and every answer goes out; it hands over to [`grpc`] or [`http`] by content
//! type. Both ask the Gate, both run calls through [`run`].

mod answer;
mod batch;
mod body;
mod call;
pub mod codec;
mod condition;
mod credential;
mod deadline;
mod describe;
mod dialect;
mod edge;
mod envelope;
mod events;
mod farewell;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http;
mod idempotency;
mod leftover;
pub mod limits;
pub mod listener;
pub mod listening;
pub mod metrics;
mod orpc_batch;
mod peer;
pub mod reply_cache;
mod run;
mod single;
mod socket;
mod table;

pub use edge::{Edge, Shared};
pub use limits::Limits;
pub use listening::Listeners;
pub use metrics::Metrics;
pub use reply_cache::ReplyCache;
