//! The way to a target: directly or through a proxy, with TLS or without, and what is asked there.

use super::exchange::{Limits, exchange};
use super::findings::Found;
use super::plan::{Hop, Plan, Proxy};
use super::{Http, HttpVersion, proxy};
use crate::probe::net::Dialed;
use crate::probe::{Net, Trouble};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use std::time::Instant;
use url::Position;

/// Asks once.
pub(super) async fn ask(
    settings: &Http,
    plan: &Plan,
    hop: &Hop,
    net: &Net,
    found: &mut Found,
) -> Result<StatusCode, Trouble> {
    let (Some(host), Some(port)) = (hop.url.host_str(), hop.url.port_or_known_default()) else {
        return Err(Trouble::Target("The URL has no host".into()));
    };
    let is_tls = hop.url.scheme() == "https";
    let mut dialed = match &plan.proxy {
        None => net.dial(host, port).await?,
        Some(proxy) => dial_proxy(net, proxy, host, port).await?,
    };
    found.remote_address = Some(dialed.address.to_string());
    found.connected(dialed.dns, dialed.connect);
    let limits = Limits {
        size: settings.size_limit_bytes,
        excerpt: settings.store_body_bytes,
        skips_redirects: settings.follow_redirects,
    };
    if !is_tls {
        let is_two = settings.http_version == HttpVersion::Two;
        let request = request(plan, hop, is_two, plan.proxy.is_some())?;
        return exchange(dialed.stream, request, is_two, &hop.url, &limits, net, found).await;
    }
    if plan.proxy.is_some() {
        net.phase(format!("waiting for the proxy to connect to {host}"));
        proxy::tunnel(&mut dialed.stream, &format!("{host}:{port}")).await?;
    }
    let alpn: &[&[u8]] = match settings.http_version {
        HttpVersion::Auto => &[b"h2", b"http/1.1"],
        HttpVersion::One => &[b"http/1.1"],
        HttpVersion::Two => &[b"h2"],
    };
    let started = Instant::now();
    let stream = net.tls(dialed.stream, host, plan.tls(settings, hop), alpn).await?;
    let session = stream.get_ref().1;
    found.encrypted(started.elapsed(), session.peer_certificates().and_then(<[_]>::first));
    let is_two = session.alpn_protocol() == Some(b"h2");
    if settings.http_version == HttpVersion::Two && !is_two {
        return Err(Trouble::Target(format!("{host} does not speak HTTP/2")));
    }
    exchange(stream, request(plan, hop, is_two, false)?, is_two, &hop.url, &limits, net, found).await
}

/// The proxy is judged like any target; what it connects to can be judged only as far as that is known here.
async fn dial_proxy(net: &Net, proxy: &Proxy, host: &str, port: u16) -> Result<Dialed, Trouble> {
    let ours = net.on_our_side();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let refusal = match bare.parse() {
        Ok(ip) => net.policy().refusal(host, std::net::SocketAddr::new(ip, port)),
        Err(_) => net.policy().refusal_of_name(host, port),
    };
    if let Some(why) = refusal {
        return Err(Trouble::Ours(format!("{host} may not be connected to: {why}")));
    }
    ours.dial(&proxy.host, proxy.port).await.map_err(|why| match why {
        Trouble::Target(text) | Trouble::Ours(text) | Trouble::Degraded(text) => {
            Trouble::Ours(format!("The proxy: {text}"))
        }
    })
}

fn request(plan: &Plan, hop: &Hop, is_two: bool, is_absolute: bool) -> Result<Request<Full<bytes::Bytes>>, Trouble> {
    let wrong = |_| Trouble::Target("The URL cannot be asked for by HTTP".into());
    let whole = hop.url.as_str();
    let path = &hop.url[Position::BeforePath..];
    let uri: Uri = if is_two || is_absolute { whole } else { path }.parse().map_err(wrong)?;
    let body = if hop.has_body { plan.body.clone() } else { bytes::Bytes::new() };
    let mut request = Request::new(Full::new(body));
    *request.uri_mut() = uri;
    *request.method_mut() = hop.method.clone();
    let headers = request.headers_mut();
    headers.clone_from(&plan.headers);
    if !hop.has_body {
        headers.remove(header::CONTENT_TYPE);
    }
    if hop.is_home {
        headers.extend(plan.secrets.clone());
    }
    if is_two {
        *request.version_mut() = http::Version::HTTP_2;
    } else {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if !headers.contains_key(header::HOST) {
            let host = hop.url.authority().parse().map_err(|_| Trouble::Target("The host cannot be asked for".into()));
            headers.insert(header::HOST, host?);
        }
    }
    Ok(request)
}
