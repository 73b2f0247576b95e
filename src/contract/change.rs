//! What an update does to a field.

/// Keep it, clear it, or set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// Leave it as it is.
    Keep,
    /// Make it absent.
    Clear,
    /// Give it this value.
    Set(T),
}

impl<T> Change<T> {
    /// Reads it off a message: with a mask exactly the named fields change, without one those that are set.
    #[must_use]
    pub fn of(mask: Option<&prost_types::FieldMask>, field: &str, value: Option<T>) -> Self {
        match (mask, value) {
            (Some(mask), value) if mask.paths.iter().any(|path| path == field) => value.map_or(Self::Clear, Self::Set),
            (None, Some(value)) => Self::Set(value),
            _ => Self::Keep,
        }
    }

    /// The same change of something made from the value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(value) => Change::Set(make(value)),
        }
    }

    /// The value after the change, of a field that always has one.
    pub fn or(self, before: T) -> T {
        match self {
            Self::Set(value) => value,
            Self::Keep | Self::Clear => before,
        }
    }

    /// The value after the change, of a field that may be absent.
    pub fn or_option(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Clear => None,
            Self::Keep => before,
        }
    }

    /// As an update statement wants it: whether to write, and what.
    #[must_use]
    pub fn binds(self) -> (bool, Option<T>) {
        match self {
            Self::Keep => (false, None),
            Self::Clear => (true, None),
            Self::Set(value) => (true, Some(value)),
        }
    }
}

impl<T> Change<Vec<T>> {
    /// Reads a list off a message: an empty one is absent, unless the mask names it.
    #[must_use]
    pub fn of_list(mask: Option<&prost_types::FieldMask>, field: &str, value: Vec<T>) -> Self {
        if mask.is_none() && value.is_empty() {
            return Self::Keep;
        }
        Self::of(mask, field, Some(value))
    }
}
