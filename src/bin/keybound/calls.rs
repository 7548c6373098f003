//! `keybound introspect`, `token` and `revoke`: the gateway's own requests, one at a time.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use keybound::Engine;
use keybound::engine::{Call, CallStep};
use serde_json::Value;

use crate::files::{self, Clock};
use crate::host::{self, Host};

/// Whom to ask, and as whom.
#[derive(Args)]
pub(crate) struct Server {
    /// The configuration, as the gateway has it (JSON)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which of the configuration's issuers to ask; the first by default
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
}

impl Server {
    fn engine(&self) -> Result<(Arc<Engine>, usize), String> {
        let name = self.config.display().to_string();
        let engine = host::engine(&files::read(&self.config)?, &name)?;
        let issuer = match &self.issuer {
            None => 0,
            Some(issuer) => engine.issuers().position(|own| own == issuer).ok_or_else(|| {
                let all: Vec<&str> = engine.issuers().collect();
                format!("--issuer: not an issuer of {name}, which has {}", all.join(", "))
            })?,
        };
        Ok((engine, issuer))
    }
}

#[derive(Args)]
pub(crate) struct Introspect {
    #[command(flatten)]
    server: Server,
    /// The token; @FILE reads a file, - standard input
    #[arg(long, allow_hyphen_values = true)]
    token: String,
}

#[derive(Args)]
pub(crate) struct Token {
    #[command(flatten)]
    server: Server,
    /// The grant to ask by
    #[arg(long, default_value = "client_credentials", value_parser = ["client_credentials"])]
    grant: String,
    /// What the token is to allow, separated by spaces
    #[arg(long)]
    scope: Option<String>,
    /// What the token is for (RFC 8707); may be repeated
    #[arg(long, value_name = "URI")]
    resource: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    server: Server,
    /// The token; @FILE reads a file, - standard input
    #[arg(long, allow_hyphen_values = true)]
    token: String,
    /// What it is: access_token or refresh_token; the server finds out by itself
    #[arg(long, value_parser = ["access_token", "refresh_token"])]
    hint: Option<String>,
}

/// The clock of requests: the server holds assertions to its own.
const CLOCK: Clock = Clock(None);

/// The answer to a request.
fn answer(engine: &Arc<Engine>, mut call: Call, verbose: bool) -> Result<Vec<u8>, String> {
    let mut host = Host::new(CLOCK, verbose);
    host.run(engine, &mut call)?;
    match call.step() {
        CallStep::Done(Ok(body)) => Ok(body.to_vec()),
        CallStep::Done(Err(refusal)) => Err(host.message(refusal)),
        CallStep::Fetch(_) | CallStep::Store(_) => Err("internal error: it is not over".into()),
    }
}

/// Prints JSON to be read by people, too; anything else as it is.
fn print(body: &[u8]) -> Result<(), String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(json) => format!("{json:#}\n").into_bytes(),
        Err(_) => body.to_vec(),
    };
    std::io::stdout().write_all(&text).map_err(|e| format!("standard output: {e}"))
}

pub(crate) fn introspect(arguments: &Introspect, verbose: bool) -> Result<ExitCode, String> {
    let (engine, issuer) = arguments.server.engine()?;
    let token = files::token_text(&arguments.token)?;
    let said = answer(&engine, engine.call_introspection(issuer, &token, CLOCK.now()?), verbose)?;
    print(&said)?;
    let active =
        serde_json::from_slice::<Value>(&said).is_ok_and(|said| said.get("active") == Some(&Value::Bool(true)));
    Ok(ExitCode::from(u8::from(!active)))
}

pub(crate) fn token(arguments: Token, verbose: bool) -> Result<ExitCode, String> {
    let (engine, issuer) = arguments.server.engine()?;
    let mut form = vec![("grant_type".to_owned(), arguments.grant)];
    form.extend(arguments.scope.map(|scope| ("scope".to_owned(), scope)));
    form.extend(arguments.resource.into_iter().map(|resource| ("resource".to_owned(), resource)));
    print(&answer(&engine, engine.call_token(issuer, form, CLOCK.now()?), verbose)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn revoke(arguments: &Revoke, verbose: bool) -> Result<ExitCode, String> {
    let (engine, issuer) = arguments.server.engine()?;
    let token = files::token_text(&arguments.token)?;
    answer(&engine, engine.call_revocation(issuer, &token, arguments.hint.as_deref(), CLOCK.now()?), verbose)?;
    Ok(ExitCode::SUCCESS)
}
