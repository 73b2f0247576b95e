//! One port, two protocols: the accept loop, the JSON gateway, the gRPC assembly. Names no procedure.
//!
//! [`edge`] is where every request comes in and every answer goes out; it hands over to [`grpc`] or [`http`] by content
//! type. Both ask the Gate, both run calls through [`run`].

mod batch;
mod body;
mod call;
pub mod codec;
mod credential;
mod deadline;
mod describe;
mod dialect;
mod edge;
mod envelope;
#[doc(hidden)]
pub mod fuzzing;
mod farewell;
mod grpc;
mod http;
mod idempotency;
mod leftover;
pub mod limits;
pub mod listener;
pub mod metrics;
mod orpc_batch;
pub mod reply_cache;
mod run;
mod single;

pub use edge::{Edge, Shared};
pub use limits::Limits;
pub use metrics::Metrics;
pub use reply_cache::ReplyCache;
