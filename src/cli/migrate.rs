//! `checkmate migrate`.

use super::print;
use crate::app::{Foundation, Sharing};
use crate::config::Config;
use crate::world::Clock;

pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    Foundation::open(config, Clock::system(), Sharing::Beside).await?.close().await;
    print("the database is up to date")
}
