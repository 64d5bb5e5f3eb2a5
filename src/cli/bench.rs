//! `cerbas bench`.
use super::exit::{Exit, Failure};
#[derive(clap::Args)]
pub(super) struct Bench {}
impl Bench {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        Ok(Exit::Done)
    }
}
#[derive(clap::Args)]
pub(super) struct Echo {}
impl Echo {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        Ok(Exit::Done)
    }
}
