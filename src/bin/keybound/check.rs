//! `keybound check`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use keybound::cert::{self, ClientCertificate};
use keybound::{Answer, Engine, Reason, Request, Step, token};
use serde_json::{Map, Value, json};

use crate::files::{self, Clock};
use crate::host::{self, Host};
use crate::thumbprint_of;

/// What a check needs: a configuration, or the little that most configurations consist of.
#[derive(Args)]
#[command(group(ArgGroup::new("configuration").required(true).args(["config", "issuer"])))]
pub(crate) struct Arguments {
    /// The configuration, as the gateway has it (JSON)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Instead of --config: the authorization server; its keys are found by its metadata. It is given 10 seconds to answer
    #[arg(long, value_name = "URL", requires = "audience")]
    issuer: Option<String>,
    /// With --issuer: what aud must hold; repeated, one of them
    #[arg(long, conflicts_with = "config")]
    audience: Vec<String>,
    /// With --issuer: the CA certificates that vouch for its servers (PEM); the system's by default
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    ca: Option<String>,
    /// With --issuer: the gateway as a client of it, by tls_client_auth; then opaque tokens are introspected
    #[arg(long, value_name = "ID", conflicts_with = "config", requires_all = ["client_cert", "client_key"])]
    client_id: Option<String>,
    /// The certificate of --client-id (PEM)
    #[arg(long, value_name = "FILE", requires = "client_id")]
    client_cert: Option<String>,
    /// The private key of --client-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "client_id")]
    client_key: Option<String>,
    /// The access token, without scheme; @FILE reads a file, - standard input
    #[arg(long, allow_hyphen_values = true)]
    token: String,
    /// The client certificate (PEM or DER); without it the connection has none
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Unix time to decide at; now by default. Assertions are of that time, too, and the authorization server's clock is its own
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    at: Option<i64>,
}

impl Arguments {
    /// The configuration, and what to call it in messages.
    fn configuration(&self) -> Result<(Vec<u8>, String), String> {
        let Some(issuer) = &self.issuer else {
            let path = self.config.as_deref().ok_or("--config is required")?;
            return Ok((files::read(path)?, path.display().to_string()));
        };
        let mut members = Map::new();
        let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
        set("issuer", json!(issuer));
        // An array is one entry, whatever spaces are in it.
        set("audience_required", self.audience.iter().map(|audience| json!([audience])).collect());
        // An operator has more patience than a gateway.
        for timeout in ["timeout", "connect_timeout", "send_timeout", "read_timeout"] {
            set(timeout, json!(10_000));
        }
        if let Some(ca) = &self.ca {
            set("ssl_trusted_certificate", json!(ca));
        }
        if let (Some(id), Some(certificate), Some(key)) = (&self.client_id, &self.client_cert, &self.client_key) {
            const NAME: &str = "client";
            set("client_id", json!(id));
            set("tls_client_auth_cert_id", json!(NAME));
            set("client_certificates", json!({NAME: {"certificate": certificate, "private_key": key}}));
        }
        Ok((Value::Object(members).to_string().into_bytes(), "command line".to_owned()))
    }
}

pub(crate) fn run(arguments: &Arguments, verbose: bool) -> Result<ExitCode, String> {
    let (configuration, name) = arguments.configuration()?;
    let engine = Arc::new(Engine::new(&configuration).map_err(|e| format!("{name}: {e}"))?);
    host::warn(&engine, &name);
    let token = files::token(&arguments.token)?;
    let clock = Clock(arguments.at);
    let now = clock.now()?;
    let cert = arguments.cert.as_deref();
    let bytes = cert.map(files::read).transpose()?;
    let certificate = bytes.as_deref().map_or(ClientCertificate::Absent, cert::sniff);

    let authorization = [b"Bearer ", token.as_slice()].concat();
    let mut check = engine.begin(&Request {
        now,
        authorization: Some(&authorization),
        authorization_count: 1,
        query: b"",
        certificate,
        early_data: false,
        http: None,
    });
    let mut host = Host::new(clock, verbose);
    host.run(&engine, &mut check)?;
    for (issuer, key) in engine.skipped_fetched_keys() {
        eprintln!("keybound: {issuer}: {key}");
    }

    let reason = check.reason().unwrap_or(Reason::InternalError);
    let (verified, claims) = match check.step() {
        Step::Allow(granted) => (true, Some(granted.claims().to_vec())),
        _ => (false, token::dangerous_unverified_claims(&token)),
    };
    let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or(Value::Null);
    let (decision, code) = match reason.answer() {
        Answer::Allow => ("allow", 0),
        Answer::Unavailable | Answer::Internal => ("error", 2),
        _ => ("deny", 1),
    };
    // The gateway passes it; who asks wants to know what is wrong with it, before nothing passes any more.
    let decision = if matches!(check.step(), Step::Report(_)) { "report" } else { decision };
    // A certificate that the decision could not use is no error of this command: it is what it explains.
    let held = cert.and_then(|path: &Path| thumbprint_of(path, certificate).ok());
    let report = json!({
        "decision": decision,
        "reason": reason.code(),
        "meaning": reason.meaning(),
        "detail": check.detail(),
        "at": now,
        "certificate": held.map(|(thumbprint, validity)| json!({
            "x5t#S256": thumbprint.to_string(),
            "not_before": validity.map(|v| v.not_before),
            "not_after": validity.map(|v| v.not_after),
        })),
        "claims_verified": verified,
        "claims": claims,
        "requests": host.requests(),
    });
    println!("{report:#}");
    Ok(ExitCode::from(code))
}
