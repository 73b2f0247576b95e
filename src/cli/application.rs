//! `checkmate application …`: the operator's way in, on the database itself.

use super::print;
use crate::app::{Foundation, Sharing};
use crate::config::Config;
use crate::world::Clock;
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make an application and print its key, once
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
        /// A role besides `applications`, by id or name; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        #[command(flatten)]
        format: Format,
    },
    /// List the applications
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Make a new key for an application; the one before is refused from then on
    Regenerate {
        /// Its id, or its name if no other has it
        application: String,
        #[command(flatten)]
        format: Format,
    },
    /// Delete an application; its key is refused from then on
    Delete {
        /// Its id, or its name if no other has it
        application: String,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args)]
pub(super) struct Format {
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// Exactly what the procedure of the same name returns
    Json,
}

pub(super) async fn run(config: Config, command: Command) -> anyhow::Result<()> {
    let foundation = Foundation::open(config, Clock::system(), Sharing::Beside).await?;
    let done = perform(&foundation, command).await;
    foundation.close().await;
    done
}

async fn perform(foundation: &Foundation, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { name, description, roles, format } => {
            let roles = role_ids(foundation, &roles).await?;
            let input = json!({"name": name, "description": description, "roles": roles});
            show(foundation, "createApplication", &input, &format, |answer| {
                format!("{}\n{}", line(&answer["application"]), key_line(answer))
            })
            .await
        }
        Command::List { format } => {
            show(foundation, "getApplications", &json!({}), &format, |answer| {
                answer.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
            })
            .await
        }
        Command::Regenerate { application, format } => {
            let id = application_id(foundation, &application).await?;
            show(foundation, "regenerateApplicationSecret", &json!({"id": id}), &format, key_line).await
        }
        Command::Delete { application, format } => {
            let id = application_id(foundation, &application).await?;
            show(foundation, "deleteApplication", &json!({"id": id}), &format, |_| format!("deleted {id}")).await
        }
    }
}

async fn show(
    foundation: &Foundation,
    procedure: &str,
    input: &Value,
    format: &Format,
    text: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let answer = foundation.call_as_operator("auth", procedure, input).await?;
    match format.output {
        Output::Json => print(&String::from_utf8(answer)?),
        Output::Text => print(&text(&serde_json::from_slice(&answer)?)),
    }
}

fn line(application: &Value) -> String {
    let text = |key: &str| application[key].as_str().unwrap_or_default().to_owned();
    let roles: Vec<_> = application["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let used = application["lastUsedAt"].as_str().unwrap_or("never");
    format!("{}  {}  roles: {}  last used: {used}", text("id"), text("name"), roles.join(", "))
}

fn key_line(answer: &Value) -> String {
    format!("key, shown only now: {}", answer["secret"].as_str().unwrap_or_default())
}

/// Roles may be given by id or by name.
async fn role_ids(foundation: &Foundation, given: &[String]) -> anyhow::Result<Vec<String>> {
    let roles: Vec<Value> =
        serde_json::from_slice(&foundation.call_as_operator("auth", "getRoles", &json!({})).await?)?;
    given.iter().map(|role| find(&roles, role).with_context(|| format!("role {role:?}"))).collect()
}

async fn application_id(foundation: &Foundation, given: &str) -> anyhow::Result<String> {
    if uuid::Uuid::try_parse(given).is_ok() {
        return Ok(given.to_owned());
    }
    let input = json!({"nameContains": given, "pageSize": 1000});
    let page: Value = serde_json::from_slice(&foundation.call_as_operator("auth", "listApplications", &input).await?)?;
    let named = page.get("applications").and_then(Value::as_array).cloned().unwrap_or_default();
    find(&named, given).with_context(|| format!("application {given:?}"))
}

/// The id of the one with this id, or else of the only one with this name.
fn find(all: &[Value], given: &str) -> anyhow::Result<String> {
    let ids = |key: &str| -> Vec<String> {
        let matching = all.iter().filter(|one| one[key] == given);
        matching.filter_map(|one| one["id"].as_str().map(str::to_owned)).collect()
    };
    match (ids("id").pop(), ids("name").as_slice()) {
        (Some(id), _) => Ok(id),
        (None, [only]) => Ok(only.clone()),
        (None, []) => bail!("there is none with this id or name"),
        (None, several) => bail!("{} have this name; use the id", several.len()),
    }
}
