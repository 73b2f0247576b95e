//! The one error, and the one table that says how it looks in each protocol.
//!
//! The customer reads the variant; the cause of an internal error goes to the log, once, and never further.

use crate::access::Token;
use crate::contract::issue::Issues;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// A result with the one error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a procedure returns.
pub type Reply<T> = std::result::Result<tonic::Response<T>, Status>;

/// A procedure's good answer.
pub fn reply<T>(message: T) -> Reply<T> {
    Ok(tonic::Response::new(message))
}

/// Why something was refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No credential where one is needed.
    #[error("Authentication required")]
    NoCredential,
    /// A credential that is not good. Why is nobody's business.
    #[error("Invalid API key")]
    BadCredential,
    /// Known, but not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// There is no such procedure or plugin.
    #[error("{0}")]
    NoProcedure(String),
    /// The input breaks rules.
    #[error("{0}")]
    Invalid(Issues),
    /// The request is malformed as a whole.
    #[error("{0}")]
    Malformed(String),
    /// The state of things forbids it.
    #[error("{0}")]
    Refused(String),
    /// Somebody else was faster.
    #[error("{0}")]
    Conflict(String),
    /// More than may be sent at once.
    #[error("{0}")]
    TooLarge(String),
    /// More often than may be asked.
    #[error("Too many requests")]
    TooMany {
        /// When asking again makes sense.
        retry_after_s: u64,
    },
    /// The deadline passed.
    #[error("Deadline exceeded")]
    Deadline,
    /// The request did not arrive in time.
    #[error("The request body did not arrive in time")]
    SlowBody,
    /// Cannot be done right now; trying again helps.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The caller went away.
    #[error("Cancelled")]
    Cancelled,
    /// Part of the contract, but not of this server.
    #[error("{0}")]
    Unimplemented(String),
    /// This path answers to other HTTP methods.
    #[error("Use {0}")]
    Method(&'static str),
    /// A body of a kind that is not read here.
    #[error("{0}")]
    MediaType(&'static str),
    /// Ours to fix. The text is for the log.
    #[error("Internal server error")]
    Internal(String),
}

/// How an error looks on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The gRPC status.
    pub grpc: Code,
    /// `code` in JSON.
    pub json: &'static str,
    /// The HTTP status.
    pub http: u16,
}

impl Error {
    /// A bug of ours.
    pub fn bug(what: impl Into<String>) -> Self {
        Self::Internal(what.into())
    }

    /// Known, but without any of the permissions that would do.
    #[must_use]
    pub fn missing_permission(any_of: &[&str]) -> Self {
        Self::Forbidden(format!("Missing permission: {}", any_of.join(" or ")))
    }

    /// Logs what is ours to fix; everything else is the caller's to know.
    pub fn log(&self, what: &str) {
        if let Self::Internal(cause) = self {
            tracing::error!(cause, "{what}");
        }
    }

    /// The table of design.md section 5.
    #[must_use]
    pub fn row(&self) -> Row {
        let (grpc, json, http) = match self {
            Self::NoCredential | Self::BadCredential => (Code::Unauthenticated, "UNAUTHORIZED", 401),
            Self::Forbidden(_) => (Code::PermissionDenied, "FORBIDDEN", 403),
            Self::NotFound(_) => (Code::NotFound, "NOT_FOUND", 404),
            Self::NoProcedure(_) => (Code::Unimplemented, "NOT_FOUND", 404),
            Self::Invalid(_) | Self::Malformed(_) => (Code::InvalidArgument, "BAD_REQUEST", 400),
            Self::Refused(_) => (Code::FailedPrecondition, "BAD_REQUEST", 400),
            Self::Conflict(_) => (Code::AlreadyExists, "CONFLICT", 409),
            Self::TooLarge(_) => (Code::ResourceExhausted, "PAYLOAD_TOO_LARGE", 413),
            Self::TooMany { .. } => (Code::ResourceExhausted, "TOO_MANY_REQUESTS", 429),
            Self::Deadline => (Code::DeadlineExceeded, "GATEWAY_TIMEOUT", 504),
            Self::SlowBody => (Code::DeadlineExceeded, "TIMEOUT", 408),
            Self::Unavailable(_) => (Code::Unavailable, "SERVICE_UNAVAILABLE", 503),
            Self::Cancelled => (Code::Cancelled, "CLIENT_CLOSED_REQUEST", 499),
            Self::Unimplemented(_) => (Code::Unimplemented, "NOT_IMPLEMENTED", 501),
            Self::Method(_) => (Code::Unimplemented, "METHOD_NOT_SUPPORTED", 405),
            Self::MediaType(_) => (Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", 415),
            Self::Internal(_) => (Code::Internal, "INTERNAL_SERVER_ERROR", 500),
        };
        Row { grpc, json, http }
    }

    /// What a caller should wait before trying again, in seconds, if trying again helps.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        if let Self::TooMany { retry_after_s } = self {
            return Some(*retry_after_s);
        }
        // What is away or overloaded may be back at any time.
        matches!(self, Self::Unavailable(_)).then_some(1)
    }

    /// What tonic raised by itself, or an error of ours on its way back.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let source = std::error::Error::source(status);
        if let Some(ours) = source.and_then(|source| source.downcast_ref::<Self>()) {
            return ours.clone();
        }
        let text = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated => Self::BadCredential,
            Code::PermissionDenied => Self::Forbidden(text),
            Code::NotFound => Self::NotFound(text),
            Code::InvalidArgument => Self::Malformed(text),
            Code::FailedPrecondition => Self::Refused(text),
            // tonic's word for a message beyond the size limit.
            Code::OutOfRange | Code::ResourceExhausted => Self::TooLarge(text),
            Code::AlreadyExists | Code::Aborted => Self::Conflict(text),
            Code::DeadlineExceeded => Self::Deadline,
            Code::Unavailable => Self::Unavailable("Try again"),
            Code::Cancelled => Self::Cancelled,
            Code::Unimplemented => Self::Unimplemented(text),
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Internal(text),
        }
    }

    fn details(&self) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        if let Self::Invalid(issues) = self {
            let violation = |issue: &crate::contract::issue::Issue| {
                FieldViolation::new(issue.path.to_string(), issue.message.clone())
            };
            details.set_bad_request(issues.iter().map(violation).collect::<Vec<_>>());
        }
        if let Some(seconds) = self.retry_after_s() {
            details.set_retry_info(Some(std::time::Duration::from_secs(seconds)));
        }
        details
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        /// The message travels percent-encoded in a header, and peers accept few KiB of those.
        const MESSAGE_CHARS_MAX: usize = 1_000;
        let message: String = Token::hidden_in(&error.to_string()).chars().take(MESSAGE_CHARS_MAX).collect();
        let has_details = matches!(error, Error::Invalid(_)) || error.retry_after_s().is_some();
        let mut status = Status::new(error.row().grpc, message);
        if has_details {
            status = Status::with_error_details(status.code(), status.message(), error.details());
        }
        status.set_source(std::sync::Arc::new(error));
        status
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        const AWAY: Error = Error::Unavailable("The database cannot be reached");
        const BUSY: Error = Error::Unavailable("The database is busy");
        const SILENT: Error = Error::Unavailable("The database did not answer in time");
        const FULL: Error = Error::Unavailable("The disk is full; the database cannot be written to");
        const CLOSED: Error = Error::Unavailable("The database cannot be written to");
        // The caller reads that it is away or busy; why stands in the log.
        tracing::debug!(cause = %error, "a statement failed");
        if let sqlx::Error::PoolTimedOut = error {
            return SILENT;
        }
        if let sqlx::Error::Io(why) = &error
            && why.kind() == std::io::ErrorKind::TimedOut
        {
            return SILENT;
        }
        if let sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed = error {
            return AWAY;
        }
        let Some(refusal) = error.as_database_error() else { return Self::Internal(error.to_string()) };
        if refusal.is_foreign_key_violation() {
            return Self::NotFound("Something that this refers to does not exist any more".into());
        }
        if refusal.is_unique_violation() {
            return Self::Conflict("This exists already".into());
        }
        match refusal.code().as_deref().unwrap_or_default() {
            // SQLite: busy, locked. PostgreSQL: serialisation, deadlock, lock not available, statement timeout.
            "5" | "6" | "261" | "262" | "517" | "773" | "40001" | "40P01" | "55P03" | "57014" => BUSY,
            "13" | "53100" => FULL,
            // SQLite: read-only; write, fsync, fsync of the folder, truncate, shared memory. PostgreSQL: a standby.
            "8" | "1032" | "778" | "1034" | "1290" | "1546" | "4618" | "4874" | "25006" => CLOSED,
            // PostgreSQL: shutting down, starting up, too many connections, out of resources, idle for too long.
            code if code.len() == 5
                && (code == "25P03" || ["57P", "53", "08"].iter().any(|class| code.starts_with(class))) =>
            {
                AWAY
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}
