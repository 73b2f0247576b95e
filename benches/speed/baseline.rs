//! What the server is compared with: bare handlers that answer the same list from memory, without key or database.

use crate::data::{self, System};
use anyhow::{Result, bail};
use axum::extract::State;
use bytes::Bytes;
use checkmate::proto::checkmate::catalog::v1 as pb;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::future::Ready;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tonic::server::NamedService;

/// `{"getSystems": {}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "getSystems")]
    _get_systems: Nothing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize)]
struct Answer<'s> {
    #[serde(rename = "getSystems")]
    systems: &'s [System],
}

/// Serves until killed.
pub async fn serve(kind: &str, count: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    match kind {
        "axum" => {
            let systems: Arc<Vec<System>> = data::systems(count).into();
            let router = axum::Router::new().route("/api/catalog/", axum::routing::post(list)).with_state(systems);
            Ok(axum::serve(tcp_nodelay(listener), router).await?)
        }
        "tonic" => {
            let service = Bare(Arc::new(data::message(count)));
            let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            Ok(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await?)
        }
        other => bail!("there is no baseline {other:?}"),
    }
}

/// As the server does it: an answer is not held back for more to come.
fn tcp_nodelay(listener: TcpListener) -> impl axum::serve::Listener<Addr = std::net::SocketAddr> {
    use axum::serve::ListenerExt;
    listener.tap_io(|stream| {
        // Without it the answers are as right as with it.
        let _ = stream.set_nodelay(true);
    })
}

type Listed = ([(http::HeaderName, &'static str); 1], Vec<u8>);

async fn list(State(systems): State<Arc<Vec<System>>>, body: Bytes) -> Result<Listed, StatusCode> {
    let _: Asked = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let json = serde_json::to_vec(&Answer { systems: &systems }).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, "application/json")], json))
}

/// tonic's own codec and server around a list in memory.
#[derive(Clone)]
struct Bare(Arc<pb::GetSystemsResponse>);

impl NamedService for Bare {
    const NAME: &'static str = "checkmate.catalog.v1.CatalogService";
}

impl tower::Service<http::Request<tonic::body::Body>> for Bare {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let handler = Handler(self.0.clone());
        // What tonic's generated servers do.
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
            Ok(grpc.unary(handler, request).await)
        })
    }
}

struct Handler(Arc<pb::GetSystemsResponse>);

impl tonic::server::UnaryService<pb::GetSystemsRequest> for Handler {
    type Response = pb::GetSystemsResponse;
    type Future = Ready<Result<tonic::Response<Self::Response>, tonic::Status>>;

    fn call(&mut self, _: tonic::Request<pb::GetSystemsRequest>) -> Self::Future {
        std::future::ready(Ok(tonic::Response::new(self.0.as_ref().clone())))
    }
}
