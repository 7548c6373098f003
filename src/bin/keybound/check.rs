//! `keybound check`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{ArgGroup, Args, ValueEnum};
use keybound::cert::{self, ClientCertificate};
use keybound::engine::{Address, Http};
use keybound::jose::jwk;
use keybound::steps::Response;
use keybound::{Answer, Check, Reason, Request, Step, token};
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
    /// The DPoP proof of the request; @FILE reads a file, - standard input
    #[arg(long, value_name = "PROOF", allow_hyphen_values = true, requires = "url")]
    dpop: Option<String>,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// The URL of the request, as the client has it; for proofs, and for the origin where the configuration leaves it to proxies
    #[arg(long)]
    url: Option<String>,
    /// How the token was sent; dpop with --dpop, else bearer
    #[arg(long, value_enum)]
    scheme: Option<Scheme>,
    /// Unix time to decide at; now by default. Assertions are of that time, too, and the authorization server's clock is its own
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    at: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scheme {
    Bearer,
    Dpop,
}

impl Arguments {
    fn scheme(&self) -> Scheme {
        self.scheme.unwrap_or(if self.dpop.is_some() { Scheme::Dpop } else { Scheme::Bearer })
    }

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
        if self.dpop.is_some() || self.scheme() == Scheme::Dpop {
            let url = self.url.as_deref().ok_or("--url is required: the proof is for it")?;
            // A certificate is looked at where the token is bound to one, too.
            set("proof_of_possession_dpop", json!("strict"));
            set("proof_of_possession_mtls", json!("optional"));
            set("public_origin", json!(origin(url)?));
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
    let engine = host::engine(&configuration, &name)?;
    let token = files::token(&arguments.token)?;
    let proof = arguments.dpop.as_deref().map(files::token).transpose()?;
    let address = arguments.url.as_deref().map(|url| engine.address(url).ok_or_else(|| not_absolute(url)));
    let address = address.transpose()?;
    let http = Http {
        method: arguments.method.as_bytes(),
        dpop: proof.as_deref().unwrap_or_default(),
        dpop_count: u32::from(proof.is_some()),
        ..address.as_ref().map(Address::http).unwrap_or_default()
    };
    let clock = Clock(arguments.at);
    let now = clock.now()?;
    let cert = arguments.cert.as_deref();
    let bytes = cert.map(files::read).transpose()?;
    let certificate = bytes.as_deref().map_or(ClientCertificate::Absent, cert::sniff);

    let scheme = arguments.scheme();
    let name = if scheme == Scheme::Dpop { b"DPoP ".as_slice() } else { b"Bearer " };
    let authorization = [name, token.as_slice()].concat();
    let mut check = engine.begin(&Request {
        now,
        authorization: Some(&authorization),
        authorization_count: 1,
        query: b"",
        certificate,
        early_data: false,
        http: Some(&http),
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
        "proof": proof.map(|proof| show(&proof, verified && scheme == Scheme::Dpop)),
        "dpop_nonce": nonce(&check),
        "claims_verified": verified,
        "claims": claims,
        "requests": host.requests(),
    });
    println!("{report:#}");
    Ok(ExitCode::from(code))
}

fn not_absolute(url: &str) -> String {
    format!(
        "--url: {url}: must be absolute, such as https://api.example.com/items, and below public_path_prefix, if there is one"
    )
}

/// Scheme, host and port of a URL: those of the gateway, which has no others than `https`.
fn origin(url: &str) -> Result<String, String> {
    let (_, rest) = url.split_once("://").ok_or_else(|| not_absolute(url))?;
    Ok(format!("https://{}", rest.split(['/', '?', '#']).next().unwrap_or_default()))
}

/// What is in a proof, whether or not it is a good one.
fn show(proof: &[u8], verified: bool) -> Value {
    let header = proof.split(|c| *c == b'.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header: Value = header.and_then(|header| serde_json::from_slice(&header).ok()).unwrap_or(Value::Null);
    let claims = token::dangerous_unverified_claims(proof);
    json!({
        "jkt": header.get("jwk").and_then(|key| jwk::thumbprint(key.to_string().as_bytes()).ok()),
        "typ": header.get("typ"),
        "alg": header.get("alg"),
        "claims_verified": verified,
        "claims": claims.and_then(|claims| serde_json::from_slice::<Value>(&claims).ok()),
        // Whether it was used before is known to the gateway's store alone.
        "replay": "not checked",
    })
}

/// The nonce that the gateway would give to the client.
fn nonce(check: &Check) -> Option<&str> {
    const NAME: &str = "dpop-nonce";
    match check.step() {
        Step::Allow(granted) => granted.response_headers().find(|(name, _)| *name == NAME).map(|(_, nonce)| nonce),
        Step::Respond(Response { headers, .. }) | Step::Report(Response { headers, .. }) => {
            headers.iter().find(|(name, _)| *name == NAME).map(|(_, nonce)| nonce.as_str())
        }
        Step::Fetch(_) | Step::Store(_) => None,
    }
}
