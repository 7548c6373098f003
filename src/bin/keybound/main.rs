//! The operator's command line: what is the thumbprint of a certificate or a key, why was a request denied, and does the authorization server know
//! the gateway?

#![deny(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod calls;
mod check;
mod files;
mod host;
mod http;
mod proof;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use keybound::cert::{self, ClientCertificate, Thumbprint, Validity};
use keybound::jose::jwk;
use keybound::jose::proof::ProofKey;
use zeroize::Zeroizing;

/// Proof-of-possession checks for access tokens (RFC 8705, RFC 9449).
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say on standard error what is asked of authorization servers; tokens and secrets are never shown
    #[arg(short, long, global = true, display_order = 100)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Print the thumbprint of a certificate (PEM or DER), x5t#S256, or of a key (JWK, or a private one in PEM), jkt.
    Thumbprint {
        /// The certificate or the key; - reads standard input
        file: PathBuf,
    },
    /// Print a DPoP proof for one request (RFC 9449), made with the client's private key.
    ///
    /// It is good for one request, and for as long as the gateway takes it. Exits 0 for success, 2 for an error.
    Proof(proof::Arguments),
    /// Decide about a token and a certificate or a proof as the gateway would, and say why.
    ///
    /// Keys that the configuration does not have are fetched, and tokens introspected, as the gateway does it. Prints JSON. Exits 0
    /// for allow, 1 for deny, 2 for an error: also when the authorization server cannot be asked, which the JSON then says. With
    /// report_only the decision is "report" where the gateway would only report: the reason and the exit code are those of the refusal.
    /// Whether a proof was used before is known to the gateway's store alone, and not checked.
    Check(check::Arguments),
    /// Ask the authorization server about a token, as the gateway would (RFC 7662).
    ///
    /// Prints what it says, as JSON. Exits 0 for an active token, 1 for an inactive one, 2 for an error.
    Introspect(calls::Introspect),
    /// Ask the authorization server for a token, as the gateway (RFC 6749).
    ///
    /// Prints what it says, the token in it. Exits 0 for success, 2 for an error.
    Token(calls::Token),
    /// Revoke a token, as the gateway (RFC 7009).
    ///
    /// Prints nothing. Exits 0 for success, 2 for an error. A token that the server does not know is a success, too.
    Revoke(calls::Revoke),
}

fn main() -> ExitCode {
    let Cli { command, verbose } = Cli::try_parse().unwrap_or_else(|error| discreet(error).exit());
    let outcome = match command {
        Command::Thumbprint { file } => thumbprint(&file),
        Command::Proof(arguments) => proof::run(&arguments),
        Command::Check(arguments) => check::run(&arguments, verbose),
        Command::Introspect(arguments) => calls::introspect(&arguments, verbose),
        Command::Token(arguments) => calls::token(arguments, verbose),
        Command::Revoke(arguments) => calls::revoke(&arguments, verbose),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("keybound: {message}");
        ExitCode::from(2)
    })
}

/// Takes out of a message what may be a token in the wrong place.
fn discreet(mut error: clap::Error) -> clap::Error {
    /// Longer than any word of this command line.
    const LONG: usize = 24;
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue, ContextKind::InvalidSubcommand] {
        if let Some(ContextValue::String(given)) = error.get(kind)
            && (given.len() > LONG || (kind == ContextKind::InvalidArg && !given.starts_with(['-', '<'])))
        {
            error.insert(kind, ContextValue::String("(not shown)".into()));
            error.remove(ContextKind::Suggested);
        }
    }
    error
}

fn thumbprint_of(path: &Path, certificate: ClientCertificate<'_>) -> Result<(Thumbprint, Option<Validity>), String> {
    let der = certificate.der().map_err(|e| format!("{}: {e}", path.display()))?.unwrap_or_default();
    Ok((Thumbprint::of_der(&der), Validity::of_der(&der)))
}

fn thumbprint(file: &Path) -> Result<ExitCode, String> {
    let bytes = Zeroizing::new(files::read(file)?);
    let named = |e: String| format!("{}: {e}", file.display());
    let thumbprint = if bytes.trim_ascii_start().starts_with(b"{") {
        jwk::thumbprint(bytes.trim_ascii()).map_err(named)?
    } else if bytes.windows(11).any(|word| word == b"PRIVATE KEY") {
        jwk::thumbprint(ProofKey::parse(&bytes).map_err(named)?.jwk().as_bytes()).map_err(named)?
    } else {
        thumbprint_of(file, cert::sniff(&bytes))?.0.to_string()
    };
    println!("{thumbprint}");
    Ok(ExitCode::SUCCESS)
}
