//! The operators of assertions, by the names that clients know.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! operators {
    ($($(#[doc = $text:literal])+ $name:ident $id:literal $wants:ident,)+) => {
        /// What is expected of a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum Operator {
            $($(#[doc = $text])+ $name,)+
        }

        impl Operator {
            /// Every operator.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)+
                }
            }

            /// What it compares with.
            pub(super) fn wants(self) -> Wants {
                match self {
                    $(Self::$name => Wants::$wants,)+
                }
            }
        }
    };
}

operators! {
    /// It is there, and not null.
    Exists "exists" Nothing,
    /// It is not there, or null.
    NotExists "notExists" Nothing,
    /// True, and not a text that says so.
    IsTrue "isTrue" Nothing,
    /// False, and not a text that says so.
    IsFalse "isFalse" Nothing,
    /// An array with this item.
    Includes "includes" Any,
    /// An array without this item.
    NotIncludes "notIncludes" Any,
    /// An array with as many items.
    LengthEquals "lengthEquals" Length,
    /// An array with more items.
    LengthGreaterThan "lengthGreaterThan" Length,
    /// An array with fewer items.
    LengthLessThan "lengthLessThan" Length,
    /// Nothing, false, zero, no items, or nothing but blanks.
    IsEmpty "isEmpty" Nothing,
    /// The opposite of `isEmpty`.
    IsNotEmpty "isNotEmpty" Nothing,
    /// A smaller number.
    LessThan "lessThan" Number,
    /// A number that is not larger.
    LessThanOrEqual "lessThanOrEqual" Number,
    /// A larger number.
    GreaterThan "greaterThan" Number,
    /// A number that is not smaller.
    GreaterThanOrEqual "greaterThanOrEqual" Number,
    /// The same value, or the same as a text.
    Equals "equals" Any,
    /// The opposite of `equals`.
    NotEquals "notEquals" Any,
    /// A text with this in it.
    Contains "contains" Text,
    /// The opposite of `contains`.
    NotContains "notContains" Text,
    /// A text that begins so.
    StartsWith "startsWith" Text,
    /// A text that ends so.
    EndsWith "endsWith" Text,
    /// A text with a match of this regular expression in it.
    Matches "matches" Pattern,
}

impl Operator {
    /// The operator of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operator| operator.as_str() == name)
    }
}

impl TryFrom<String> for Operator {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|operator| operator.as_str()).collect();
            format!("is not an operator: {}", names.join(", "))
        })
    }
}

impl From<Operator> for &'static str {
    fn from(operator: Operator) -> Self {
        operator.as_str()
    }
}

/// What an operator compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Nothing,
    Any,
    Number,
    Length,
    Text,
    Pattern,
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Any => "a value",
            Self::Number => "a number",
            Self::Length => "a whole number that is not negative",
            Self::Text => "a text",
            Self::Pattern => "a regular expression, which is a text",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_read_as_it_is_written() {
        for operator in Operator::ALL {
            let written = serde_json::to_value(operator).unwrap();
            assert_eq!(written, operator.as_str());
            assert_eq!(serde_json::from_value::<Operator>(written).unwrap(), *operator);
        }
        assert_eq!(Operator::ALL.len(), 22);
        assert_eq!(Operator::parse("Equals"), None);
    }
}
