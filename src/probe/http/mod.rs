//! `http`: one request, over a connection of its own, and what came back.
//!
//! Each redirect is a connection that is judged like the first. What is secret goes to the origin that it is meant for and
//! to no other.

mod exchange;
mod findings;
mod plan;
mod proxy;
mod route;
mod status;

use super::tls::{TlsOptions, millis};
use super::{Fault, Net, Probe, Secret, Trouble};
pub use findings::Found;
use http::StatusCode;
pub(super) use plan::named;
use plan::{Hop, Plan};
use schemars::JsonSchema;
use serde::Deserialize;
use status::Expected;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Instant;

/// Sends an HTTP request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "clients write httpVersion")]
pub struct Http {
    /// Where to, beginning with http:// or https://; without user and password, for which there is `basicAuth`.
    #[schemars(length(max = 8192), url)]
    url: String,
    /// The method.
    #[serde(default)]
    method: Method,
    /// Headers to send, by name.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Headers whose values are secret, by name. They are not sent to another origin.
    #[serde(default)]
    secret_headers: BTreeMap<String, Secret>,
    /// What to send.
    #[schemars(length(max = 1_048_576))]
    body: Option<String>,
    /// Which answers are good: `200`, `"2xx"`, `"200-299"`, or a list of these. Without it, 200 to 399.
    expected_status: Option<Expected>,
    /// Whether to go where a redirect leads.
    #[serde(default = "yes")]
    follow_redirects: bool,
    /// The most redirects to follow.
    #[serde(default = "five")]
    #[schemars(range(max = 20))]
    max_redirects: u8,
    /// User and password for basic authentication.
    basic_auth: Option<BasicAuth>,
    /// A token for bearer authentication.
    bearer_token: Option<Secret>,
    /// Whom to trust, and who one is.
    #[serde(default)]
    tls: TlsOptions,
    /// The version of HTTP. `auto` speaks what the server chooses of 1.1 and 2, and 1.1 without TLS.
    #[serde(default)]
    http_version: HttpVersion,
    /// The proxy to go through, `http://proxy.example:3128`. It resolves the name of the target, so where that leads cannot
    /// be judged here.
    proxy: Option<String>,
    /// The longest body that is accepted, in bytes.
    #[serde(default = "mebibyte")]
    #[schemars(range(min = 1, max = 10_485_760))]
    size_limit_bytes: usize,
    /// How much of the beginning of the body is stored, in bytes.
    #[serde(default)]
    #[schemars(range(max = 1024))]
    store_body_bytes: usize,
    /// The user agent.
    user_agent: Option<String>,
    #[serde(skip)]
    #[schemars(skip)]
    plan: OnceLock<Box<Plan>>,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// Which version to speak.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
enum HttpVersion {
    #[default]
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "1.1")]
    One,
    #[serde(rename = "2")]
    Two,
}

/// Who one is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BasicAuth {
    /// The name.
    username: String,
    /// The password.
    password: Secret,
}

fn yes() -> bool {
    true
}

fn five() -> u8 {
    5
}

fn mebibyte() -> usize {
    1_048_576
}

impl Probe for Http {
    const ID: &'static str = "http";
    const NAME: &'static str = "HTTP";
    const DESCRIPTION: &'static str = "Sends an HTTP request, and looks at the answer and how long it took";

    type Findings = Found;

    fn faults(&self) -> Vec<Fault> {
        match Plan::of(self) {
            Ok(plan) => {
                let _ = self.plan.set(Box::new(plan));
                vec![]
            }
            Err(faults) => faults,
        }
    }

    fn host(&self) -> Option<String> {
        let plan = self.plan.get()?;
        Some(format!("{}:{}", plan.url.host_str()?, plan.url.port_or_known_default()?))
    }

    async fn look(&self, net: &Net, found: &mut Found) -> Result<(), Trouble> {
        let Some(plan) = self.plan.get() else {
            return Err(Trouble::Ours("The settings of the check are wrong".into()));
        };
        let started = Instant::now();
        let status = self.follow(plan, net, found).await?;
        found.response_time_ms = Some(millis(started.elapsed()));
        let is_good = plan.expected.contains(status.as_u16());
        found.success = Some(is_good);
        if is_good { Ok(()) } else { Err(Trouble::Target(format!("Answered {status}, which is not expected"))) }
    }
}

impl Http {
    /// Asks, and goes where the answers lead, to the last one.
    async fn follow(&self, plan: &Plan, net: &Net, found: &mut Found) -> Result<StatusCode, Trouble> {
        let mut hop = Hop::first(plan);
        let mut visited = vec![];
        loop {
            let status = route::ask(self, plan, &hop, net, found).await?;
            let Some(location) = found.location.take().filter(|_| self.follow_redirects && status.is_redirection())
            else {
                return Ok(status);
            };
            if visited.len() >= usize::from(self.max_redirects) {
                return Err(Trouble::Target(format!("Redirects more than {} times", self.max_redirects)));
            }
            let onward = hop.next(plan, status, &location)?;
            visited.push(hop);
            if visited.iter().any(|one: &Hop| one.url == onward.url && one.method == onward.method) {
                return Err(Trouble::Target("Redirects in a circle".into()));
            }
            found.redirects = Some(visited.len());
            hop = onward;
        }
    }
}
