//! `cerbas token`.

use std::io::{self, Read};

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output;
use crate::gateway::TokenHash;

/// A token that can be guessed is none; a made one has more.
const FEWEST: usize = 20;

#[derive(clap::Args)]
pub(super) struct MakeToken {
    /// What it is called in the configuration
    #[arg(default_value = "NAME")]
    name: String,
    /// Read the token from standard input instead of making one
    #[arg(long)]
    stdin: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl MakeToken {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let token = if self.stdin { given()? } else { made() };
        let hash = TokenHash::of(&token);
        if self.json {
            output::print(&json!({"token": token, "hash": hash.to_string()}).to_string())?;
            return Ok(Exit::Done);
        }
        if !self.stdin {
            output::print(&format!("The token, for who asks; it is shown only now:\n\n    {token}\n"))?;
        }
        let name = &self.name;
        output::print(&format!("For the configuration:\n\n    [http.tokens.{name}]\n    hash = \"{hash}\""))?;
        Ok(Exit::Done)
    }
}

/// 244 bits of chance.
fn made() -> String {
    format!("cerbas_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

fn given() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().lock().take(4096).read_to_string(&mut text);
    read.map_err(|error| Failure::new(Exit::Usage, format!("standard input: {error}")))?;
    let token = text.trim().to_owned();
    if token.len() < FEWEST || token.contains(char::is_whitespace) {
        let reason = format!("a token has at least {FEWEST} characters and no blanks: it must not be guessed");
        return Err(Failure::new(Exit::Usage, reason));
    }
    Ok(token)
}
