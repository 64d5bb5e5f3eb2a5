//! `cerbas run`.

use env_logger::Env;

use super::exit::{Exit, Failure};
use super::{ConfigPath, output};
use crate::server::Server;

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigPath,
}

impl Run {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        env_logger::Builder::from_env(Env::default().default_filter_or("info")).format_target(false).init();
        let path = &self.config.config;
        if !path.exists() {
            let hint = format!("{}: there is no such file; name one with --config FILE", path.display());
            return Err(Failure::new(Exit::CannotStart, hint));
        }
        let ended = Server::from_file(path)?.run()?;
        if !ended.is_clean() {
            output::complain("something had to be abandoned, see the log above");
            return Ok(Exit::Failed);
        }
        Ok(Exit::Done)
    }
}
