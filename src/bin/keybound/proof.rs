//! `keybound proof`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use keybound::crypto::Algorithm;
use keybound::jose::proof::{ProofKey, Purpose};
use zeroize::Zeroizing;

use crate::files::{self, Clock};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The client's private key: a JWK, or PEM; - reads standard input
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// The URL of the request, as the client has it
    #[arg(long)]
    url: String,
    /// The access token that goes with it, without scheme; @FILE reads a file, - standard input. None at a token endpoint
    #[arg(long, allow_hyphen_values = true)]
    token: Option<String>,
    /// The nonce that the server asked for (DPoP-Nonce)
    #[arg(long, allow_hyphen_values = true)]
    nonce: Option<String>,
    /// The algorithm of the signature; by default the key's, PS256 for RSA
    #[arg(long, value_name = "NAME")]
    alg: Option<String>,
    /// Unix time of the proof; now by default
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    at: Option<i64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let text = Zeroizing::new(files::read(&arguments.key)?);
    let key = ProofKey::parse(&text).map_err(|e| format!("{}: {e}", arguments.key.display()))?;
    let token = arguments.token.as_deref().map(files::token).transpose()?;
    let algorithm = arguments
        .alg
        .as_deref()
        .map(|name| Algorithm::from_name(name).ok_or("--alg: not a signature algorithm of this build"));
    let purpose = Purpose {
        method: &arguments.method,
        url: &arguments.url,
        token: token.as_deref(),
        nonce: arguments.nonce.as_deref(),
        now: Clock(arguments.at).now()?,
    };
    println!("{}", key.prove(&purpose, algorithm.transpose()?)?);
    Ok(ExitCode::SUCCESS)
}
