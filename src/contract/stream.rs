//! Streams: methods whose answer goes on for as long as their caller listens.
//!
//! gRPC sends the messages as they are. JSON needs each as text, what it is, and from where its caller can resume.

use super::Method;
use crate::access::gate::Admitted;
use crate::error::{Error, Result};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

/// The answer of a service's streaming method.
pub type Messages<M> = BoxStream<'static, Result<M, Status>>;

/// A message of a stream. Generated.
pub trait Event {
    /// From where its caller can resume, if this is such a place.
    fn cursor(&self) -> Option<&str>;
    /// What it tells of: `created`.
    fn name(&self) -> &'static str;
}

/// A message of a stream as JSON.
#[derive(Debug)]
pub struct Told {
    /// From where its caller can resume.
    pub cursor: Option<String>,
    /// What it tells of.
    pub name: &'static str,
    /// The message.
    pub json: Vec<u8>,
}

/// What a call of a streaming method begins.
pub type Telling = BoxFuture<'static, Result<BoxStream<'static, Result<Told>>>>;

/// A call of a streaming method that is known, permitted and valid, and has not run.
pub struct Stream {
    /// What will run.
    pub method: &'static Method,
    run: Box<dyn FnOnce() -> Telling + Send>,
}

impl Stream {
    /// Joins a message with the service method that takes it.
    pub fn new<M, R, S, F>(admitted: Admitted, message: M, call: impl FnOnce(Request<M>) -> F + Send + 'static) -> Self
    where
        M: Send + 'static,
        R: serde::Serialize + Event + 'static,
        S: futures_util::Stream<Item = Result<R, Status>> + Send + 'static,
        F: Future<Output = Result<Response<S>, Status>> + Send + 'static,
    {
        let method = admitted.method();
        let run = move || -> Telling {
            Box::pin(async move {
                let reply = call(admitted.request(message)).await.map_err(|status| Error::from_status(&status))?;
                Ok(reply.into_inner().map(|message| told(&message.map_err(|why| Error::from_status(&why))?)).boxed())
            })
        };
        Self { method, run: Box::new(run) }
    }

    /// Begins it.
    #[must_use]
    pub fn run(self) -> Telling {
        (self.run)()
    }
}

fn told<R: serde::Serialize + Event>(message: &R) -> Result<Told> {
    let json = serde_json::to_vec(message);
    let json = json.map_err(|why| Error::bug(format!("an event cannot be written as JSON: {why}")))?;
    Ok(Told { cursor: message.cursor().map(str::to_owned), name: message.name(), json })
}
