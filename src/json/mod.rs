//! The JSON of the contract: reading input with every violation at once, writing results, and where their dates are.
//!
//! Which message has which keys is generated (`src/codegen/messages.rs`); here is what the generated code calls.

pub mod dates;
pub mod decode;
pub mod encode;
pub mod value;

pub use dates::{DatePaths, Dates};
pub use decode::{Decode, Decoder};
pub use value::Value;

/// The JSON spelling of each value of an enum, with its number; the unspecified one has none.
pub type Names = &'static [(&'static str, i32)];
