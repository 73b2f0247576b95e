//! What becomes of runs: hours are sealed into chunks and tallies, tallies of hours into those of days, and what is older
//! than anybody wants goes.

pub(super) mod amend;
mod bits;
pub(super) mod chunk;
pub(super) mod detail;
pub(super) mod raw;
pub(super) mod seal;
pub(super) mod sketch;
pub(super) mod span;
pub(super) mod store;
pub(super) mod sum;
pub(super) mod sweep;
mod sweep_store;
pub(super) mod tally;
mod write_store;
