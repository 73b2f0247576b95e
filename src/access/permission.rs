//! What roles allow: permissions and wildcards.

use crate::contract::PERMISSIONS;
use std::collections::BTreeSet;
use std::fmt;

/// One thing that a role allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// `*`: everything, also what later releases add.
    All,
    /// `catalog.*`: everything of a plugin, also what later releases add.
    Plugin(&'static str),
    /// One permission.
    One(&'static str),
}

impl Grant {
    /// Reads a permission, a synonym of one, or a wildcard; `None` if there is no such thing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some(plugin) = text.strip_suffix(".*") {
            return PERMISSIONS
                .iter()
                .map(|known| plugin_of(known.id))
                .find(|known| *known == plugin)
                .map(Self::Plugin);
        }
        let known = PERMISSIONS.iter().find(|known| known.id == text || known.synonyms.contains(&text));
        known.map(|known| Self::One(known.id))
    }

    /// Whether holding this means holding that. Structural: all permissions of a plugin one by one are not its
    /// wildcard, because that also means what is still to come.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Plugin(plugin), Self::Plugin(other)) => plugin == other,
            (Self::Plugin(plugin), Self::One(id)) => plugin_of(id) == plugin,
            (Self::One(id), Self::One(other)) => id == other,
            (Self::Plugin(_) | Self::One(_), Self::All) | (Self::One(_), Self::Plugin(_)) => false,
        }
    }

    /// What of this administers identities: whoever may do that is changed only by their like (rule E8).
    #[must_use]
    pub fn administrative(self) -> Option<Self> {
        const AUTH: &str = "auth";
        match self {
            Self::All => Some(Self::Plugin(AUTH)),
            Self::Plugin(plugin) => (plugin == AUTH).then_some(self),
            Self::One(id) => (plugin_of(id) == AUTH).then_some(self),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Plugin(plugin) => write!(f, "{plugin}.*"),
            Self::One(id) => f.write_str(id),
        }
    }
}

fn plugin_of(permission: &'static str) -> &'static str {
    permission.split('.').next().unwrap_or(permission)
}

/// Everything that a role, or all roles of a caller, allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<Grant>);

impl Grants {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self([Grant::All].into())
    }

    /// Reads what a caller wrote. Validation has refused unknown permissions.
    #[must_use]
    pub fn parse(texts: &[String]) -> Self {
        texts.iter().filter_map(|text| Grant::parse(text)).collect()
    }

    /// Reads what is stored. A permission that this release does not know allows nothing.
    #[must_use]
    pub fn stored(json: &str) -> Self {
        let texts: Vec<String> = serde_json::from_str(json).unwrap_or_default();
        Self::parse(&texts)
    }

    /// As it is stored, and as callers read it.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(Grant::to_string).collect()
    }

    /// As it is stored.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(&self.names()).unwrap_or_default()
    }

    /// Whether this allows a permission.
    #[must_use]
    pub fn allow(&self, permission: &'static str) -> bool {
        self.cover(Grant::One(permission))
    }

    /// Whether this means a grant.
    #[must_use]
    pub fn cover(&self, grant: Grant) -> bool {
        self.0.iter().any(|held| held.covers(grant))
    }

    /// What of these the other does not mean.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Vec<Grant> {
        self.0.iter().filter(|grant| !other.cover(**grant)).copied().collect()
    }

    /// What of these administers identities.
    #[must_use]
    pub fn administrative(&self) -> Self {
        self.0.iter().filter_map(|grant| grant.administrative()).collect()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Grant> {
        self.0.iter().copied()
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Grant {
        Grant::parse(text).unwrap()
    }

    #[test]
    fn wildcards_cover_by_structure() {
        let (all, catalog, read) = (grant("*"), grant("catalog.*"), grant("catalog.catalog.read"));
        assert!(all.covers(catalog) && all.covers(read) && catalog.covers(read));
        assert!(!catalog.covers(all) && !read.covers(catalog) && !catalog.covers(grant("auth.roles.read")));
        let each: Grants = ["catalog.catalog.read", "catalog.catalog.manage"].map(grant).into_iter().collect();
        assert!(!each.cover(catalog), "all of today is not all of tomorrow");
    }

    #[test]
    fn later_spellings_mean_the_same() {
        assert_eq!(grant("catalog.system.read"), grant("catalog.catalog.read"));
        assert_eq!(grant("auth.roles.create.manage").to_string(), "auth.roles.create");
        for unknown in
            ["", "**", "catalog", "catalog.", "cat*", "catalog.catalog.*", "nope.*", ".*", "catalog.nope.read"]
        {
            assert_eq!(Grant::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn whoever_holds_everything_administers() {
        assert_eq!(Grants::all().administrative().names(), ["auth.*"]);
        assert!(Grants::stored(r#"["catalog.*","incident.incident.read"]"#).administrative().is_empty());
    }
}
