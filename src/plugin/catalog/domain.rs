//! What a catalog consists of, and its rules.

use crate::contract::{Change, Checker, Row, Rules};
use crate::database::Timestamp;
use crate::database::id::id;
use crate::error::{Error, Result};
use crate::proto::checkmate::catalog::v1 as pb;
use std::collections::HashSet;

id! {
    /// A system.
    SystemId
}
id! {
    /// A group.
    GroupId
}
id! {
    /// A saved view.
    ViewId
}
id! {
    /// A contact of a system.
    ContactId
}

/// A group answers with all its members at once; more would not fit an answer that anybody reads.
pub const GROUP_MEMBERS_MAX: i64 = 10_000;

/// One answer holds at most this many memberships over all its groups: 100,000 ids are 4 MB already.
pub const MEMBERSHIPS_MAX: usize = 100_000;

/// Nobody calls a thousand people about one system.
pub const SYSTEM_CONTACTS_MAX: i64 = 1_000;

/// Something that is watched.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct System {
    /// Its id.
    pub id: SystemId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// A JSON object.
    pub metadata: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What changes about a system.
pub struct SystemChanges {
    /// The name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Change<String>,
    /// Who answers for it.
    pub owner: Change<String>,
    /// A JSON object.
    pub metadata: Change<String>,
}

/// Systems that belong together.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// What people call it.
    pub name: String,
    /// A JSON object.
    pub metadata: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What changes about a group.
pub struct GroupChanges {
    /// The name.
    pub name: Option<String>,
    /// A JSON object.
    pub metadata: Change<String>,
}

/// A saved way to look at the catalog.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct View {
    /// Its id.
    pub id: ViewId,
    /// What people call it.
    pub name: String,
    /// What it shows.
    pub description: Option<String>,
    /// Any JSON value.
    pub configuration: Option<String>,
    /// When it was saved.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What changes about a view.
pub struct ViewChanges {
    /// The name.
    pub name: Option<String>,
    /// What it shows.
    pub description: Change<String>,
    /// Any JSON value.
    pub configuration: Change<String>,
}

/// What a contact refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ContactKind {
    /// Somebody with an account.
    User,
    /// A mailbox.
    Mailbox,
}

/// Whom to call about a system.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Contact {
    /// Its id.
    pub id: ContactId,
    /// The system.
    pub system_id: SystemId,
    /// What it refers to.
    pub kind: ContactKind,
    /// The account.
    pub user_id: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// What it is for.
    pub label: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Refuses to add to what is full already.
pub fn must_have_room(what: &str, count: i64, max: i64) -> Result<()> {
    if count >= max {
        return Err(Error::Refused(format!("{what} has {max} already")));
    }
    Ok(())
}

/// Checks the systems that something touches: at least one where they are needed, each once.
pub fn check_touched(ids: &[String], is_needed: bool, check: &mut Checker<'_>) {
    let mut seen = HashSet::new();
    if ids.is_empty() && is_needed {
        check.issue("systemIds", "Must have at least one item");
    }
    for (index, id) in ids.iter().enumerate().filter(|(_, id)| !seen.insert(*id)) {
        check.item_issue("systemIds", index, format!("Stands there twice: {id}"));
    }
}

/// Ids of systems.
pub fn parse_systems(ids: &[String]) -> Result<Vec<SystemId>> {
    ids.iter().map(|id| SystemId::parse(id)).collect()
}

/// Rows of the catalog stand in the order of their ids.
macro_rules! row {
    ($row:ty, $($text:ident),*) => {
        impl Row for $row {
            fn position(&self) -> String {
                self.id.to_string()
            }

            fn bytes(&self) -> usize {
                self.name.len() $(+ self.$text.as_ref().map_or(0, String::len))*
            }
        }
    };
}
row!(System, description, owner, metadata);
row!(Group, metadata);
row!(View, description, configuration);

impl Row for Contact {
    fn position(&self) -> String {
        self.id.to_string()
    }

    fn bytes(&self) -> usize {
        [&self.user_id, &self.email, &self.label].into_iter().flatten().map(String::len).sum()
    }
}

/// A contact says what its type needs, and nothing else.
impl Rules for pb::AddSystemContactRequest {
    fn rules(&self, check: &mut Checker<'_>) {
        let (user, mailbox) = (self.r#type() == pb::ContactType::User, self.r#type() == pb::ContactType::Mailbox);
        for (key, is_given, is_needed) in
            [("userId", self.user_id.is_some(), user), ("email", self.email.is_some(), mailbox)]
        {
            if is_needed && !is_given {
                check.issue(key, "Required");
            } else if is_given && !is_needed && (user || mailbox) {
                check.issue(key, "Not for this type of contact");
            }
        }
        if self.user_id.as_ref().is_some_and(|id| id.trim().is_empty()) {
            check.issue("userId", "Must not be blank");
        }
    }
}
