//! The operator's command line: what is a certificate's thumbprint, and why was a request denied?

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use keybound::cert::{self, ClientCertificate, Thumbprint, Validity};
use keybound::{Reason, Verifier, token};
use serde_json::{Value, json};

/// Proof-of-possession checks for access tokens (RFC 8705).
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the x5t#S256 thumbprint of a certificate (PEM or DER).
    Thumbprint {
        /// The certificate; - reads standard input
        file: PathBuf,
    },
    /// Decide about a token and a certificate as the gateway would, and say why.
    ///
    /// Prints JSON. Exits 0 for allow, 1 for deny, 2 for an error.
    Check {
        /// The configuration, as the gateway has it (JSON)
        #[arg(long)]
        config: PathBuf,
        /// The access token, without scheme; @FILE reads a file, - standard input
        #[arg(long)]
        token: String,
        /// The client certificate (PEM or DER); without it the connection has none
        #[arg(long)]
        cert: Option<PathBuf>,
        /// Unix time to decide at, in seconds; now by default
        #[arg(long, allow_negative_numbers = true)]
        at: Option<i64>,
    },
}

/// Larger files are neither certificates nor tokens nor configurations.
const MAX_FILE: u64 = 1 << 20;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Thumbprint { file } => thumbprint(&file),
        Command::Check { config, token, cert, at } => check(&config, &token, cert.as_deref(), at),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("keybound: {message}");
        ExitCode::from(2)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let result = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
    };
    result.map(|_| bytes).map_err(|e| format!("{}: {e}", path.display()))
}

fn thumbprint_of(path: &Path, certificate: ClientCertificate<'_>) -> Result<(Thumbprint, Option<Validity>), String> {
    let der = certificate.der().map_err(|e| format!("{}: {e}", path.display()))?.unwrap_or_default();
    Ok((Thumbprint::of_der(&der), Validity::of_der(&der)))
}

fn thumbprint(file: &Path) -> Result<ExitCode, String> {
    let bytes = read(file)?;
    println!("{}", thumbprint_of(file, cert::sniff(&bytes))?.0);
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Path, token: &str, cert: Option<&Path>, at: Option<i64>) -> Result<ExitCode, String> {
    let verifier = Verifier::new(&read(config)?).map_err(|e| format!("{}: {e}", config.display()))?;
    for key in verifier.skipped_keys() {
        eprintln!("keybound: {}: {key}", config.display());
    }
    let token = match token.strip_prefix('@') {
        Some(file) => read(Path::new(file))?,
        None if token == "-" => read(Path::new("-"))?,
        None => token.as_bytes().to_vec(),
    };
    let token = token.trim_ascii();
    let now = match at {
        Some(at) => at,
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i64::try_from(d.as_secs()).ok())
            .ok_or("the clock is before 1970; give --at")?,
    };
    let bytes = cert.map(read).transpose()?;
    let certificate = bytes.as_deref().map_or(ClientCertificate::Absent, cert::sniff);
    let (reason, verified, claims) = match verifier.verify(token, certificate, now) {
        Ok(verified) => (Reason::Allowed, true, Some(verified.claims)),
        Err(reason) => (reason, false, token::dangerous_unverified_claims(token)),
    };
    let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or(Value::Null);
    // A certificate that the decision could not use is no error of this command: it is what it explains.
    let held = cert.and_then(|path| thumbprint_of(path, certificate).ok());
    let allowed = reason == Reason::Allowed;
    let report = json!({
        "decision": if allowed { "allow" } else { "deny" },
        "reason": reason.code(),
        "meaning": reason.meaning(),
        "at": now,
        "certificate": held.map(|(thumbprint, validity)| json!({
            "x5t#S256": thumbprint.to_string(),
            "not_before": validity.map(|v| v.not_before),
            "not_after": validity.map(|v| v.not_after),
        })),
        "claims_verified": verified,
        "claims": claims,
    });
    println!("{report:#}");
    Ok(ExitCode::from(u8::from(!allowed)))
}
