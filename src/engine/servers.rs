//! The part of the configuration that is about authorization servers: each issuer's endpoints, keys, client and trust.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::config::{ConfigError, OF_CLIENT, OF_ISSUER, Options};
use crate::client::assertion::Assertion;
use crate::client::auth::{ClientAuth, Method};
use crate::client::http::{Exchange, Target};
use crate::client::introspection::{Accept, IntrospectionSetup};
use crate::client::shared::{self, Domain};
use crate::client::{EndpointSetup, ServerSetup};
use crate::crypto::sign::SigningKey;
use crate::crypto::{Algorithm, Secret};
use crate::jose::json::{self, Value};
use crate::jose::jwk::SkippedKey;
use crate::token::jwt::Issuer;

/// Most issuers: a token is compared with the name of each.
const MAX_ISSUERS: usize = 32;

/// How to connect to an authorization server. The host makes it so; nothing here opens files or sockets.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsProfile {
    /// Name in `client_certificates` of the certificate to offer; `None`: offer none
    pub name: Option<String>,
    /// Its certificate chain: the path of a PEM file, or PEM
    pub certificate: Option<String>,
    /// Its private key, likewise
    pub private_key: Option<Arc<Zeroizing<String>>>,
    /// The CA certificates that vouch for the server, likewise; `None`: those that the host trusts
    pub trusted: Option<String>,
    /// Whether the server's certificate and name are verified
    pub verify: bool,
}

impl TlsProfile {
    /// Tells what is verified, and who asks, from all others: for the keys of the store.
    fn id(&self) -> String {
        let text =
            |text: &Option<String>| text.as_ref().map_or_else(|| "-".into(), |text| format!("{}:{text}", text.len()));
        format!("{} {} {} {}", self.verify, text(&self.trusted), text(&self.name), text(&self.certificate))
    }
}

/// The certificates of `client_certificates`, and the profiles made of them.
pub(super) struct TlsProfiles {
    certificates: Vec<(String, String, Arc<Zeroizing<String>>)>,
    used: Vec<String>,
    profiles: Vec<TlsProfile>,
}

impl TlsProfiles {
    pub(super) fn of(options: &Options<'_>) -> Result<TlsProfiles, ConfigError> {
        const NAME: &str = "client_certificates";
        let mut certificates = Vec::new();
        if let Some(raw) = options.raw(NAME) {
            let Some(members) = json::members(raw.as_bytes()).ok().filter(|members| !members.is_empty()) else {
                return options
                    .error(NAME, "must be an object: {\"name\": {\"certificate\": ..., \"private_key\": ...}}");
            };
            for (name, raw) in members {
                let Ok(pair) = json::members(raw.get().as_bytes()) else {
                    return options.error(NAME, "each must be an object with certificate and private_key");
                };
                let pair = Options::new(pair, format!("{NAME}.{name}."), &["certificate", "private_key"])?;
                match (pair.string("certificate")?, pair.string("private_key")?) {
                    (Some(certificate), Some(key)) => {
                        certificates.push((name.into_owned(), certificate, Arc::new(Zeroizing::new(key))));
                    }
                    (None, _) => return pair.error("certificate", "required: the path of a PEM file, or PEM"),
                    (_, None) => return pair.error("private_key", "required: the path of a PEM file, or PEM"),
                }
            }
        }
        Ok(TlsProfiles { certificates, used: Vec::new(), profiles: Vec::new() })
    }

    /// The place of the profile with this certificate; the option that names the certificate is for messages.
    fn profile(
        &mut self,
        options: &Options<'_>,
        option: &str,
        name: Option<String>,
        trust: &Trust,
    ) -> Result<usize, ConfigError> {
        let profile = match name {
            None => TlsProfile {
                name: None,
                certificate: None,
                private_key: None,
                trusted: trust.trusted.clone(),
                verify: trust.verify,
            },
            Some(name) => {
                let Some((_, certificate, key)) = self.certificates.iter().find(|(own, ..)| *own == name) else {
                    let names: Vec<&str> = self.certificates.iter().map(|(own, ..)| own.as_str()).collect();
                    return options
                        .error(option, format_args!("must be a name in client_certificates: {}", names.join(", ")));
                };
                self.used.push(name.clone());
                TlsProfile {
                    name: Some(name),
                    certificate: Some(certificate.clone()),
                    private_key: Some(Arc::clone(key)),
                    trusted: trust.trusted.clone(),
                    verify: trust.mutual_verify,
                }
            }
        };
        match self.profiles.iter().position(|own| *own == profile) {
            Some(place) => Ok(place),
            None => {
                self.profiles.push(profile);
                Ok(self.profiles.len().saturating_sub(1))
            }
        }
    }

    fn get(&self, place: usize) -> Option<&TlsProfile> {
        self.profiles.get(place)
    }

    pub(super) fn finish(self, options: &Options<'_>) -> Result<Vec<TlsProfile>, ConfigError> {
        match self.certificates.iter().find(|(name, ..)| !self.used.contains(name)) {
            Some((name, ..)) => {
                options.error("client_certificates", format_args!("{name} is not used by any *_cert_id"))
            }
            None => Ok(self.profiles),
        }
    }
}

/// Whom an issuer's servers are trusted by.
struct Trust {
    trusted: Option<String>,
    verify: bool,
    mutual_verify: bool,
}

/// How introspection is asked for: the same at all issuers.
pub(super) struct Asked {
    accept: Accept,
    hint: Option<String>,
    algorithms: Vec<Algorithm>,
    ttl: i64,
    ttl_neg: i64,
}

impl Asked {
    pub(super) fn of(options: &Options<'_>, algorithms: Vec<Algorithm>) -> Result<Asked, ConfigError> {
        const ACCEPT: &str = "introspection_accept";
        const HINT: &str = "introspection_hint";
        let accept = match options.string(ACCEPT)?.as_deref() {
            None | Some("application/json") => Accept::Json,
            Some("application/token-introspection+jwt") => Accept::Jwt,
            Some(_) => {
                return options.error(ACCEPT, "must be application/json or application/token-introspection+jwt");
            }
        };
        let hint = match options.value(HINT)? {
            None => Some("access_token".to_owned()),
            Some(Value::Str(hint)) => Some(hint.into_owned()).filter(|hint| !hint.is_empty()),
            Some(other) => return options.error(HINT, format_args!("must be a string, not {}", other.kind())),
        };
        Ok(Asked {
            accept,
            hint,
            algorithms,
            ttl: options.number("introspection_cache_ttl", 60, 0..=86_400)?,
            ttl_neg: options.number("introspection_cache_ttl_neg", 5, 0..=3600)?,
        })
    }

    /// Whether responses are verified with the issuer's keys.
    pub(super) fn is_signed(&self) -> bool {
        self.accept == Accept::Jwt
    }

    /// For one issuer, whose `own` options say what else is sent to it: a secret may be among that.
    fn setup(
        &self,
        own: &Options<'_>,
        trust: &[u8; 32],
        endpoint: &EndpointSetup,
        profile: &TlsProfile,
    ) -> Result<IntrospectionSetup, ConfigError> {
        let arguments = pairs(own, "introspection_post_args_names", "introspection_post_args_values")?;
        const OURS: [&str; 6] =
            ["token", "token_type_hint", "client_id", "client_secret", "client_assertion", "client_assertion_type"];
        if let Some((name, _)) = arguments.iter().find(|(name, _)| OURS.contains(&name.as_str())) {
            return own.error("introspection_post_args_names", format_args!("{name} is set by keybound itself"));
        }
        let headers = pairs(own, "introspection_headers_names", "introspection_headers_values")?;
        for (name, value) in &headers {
            if ["accept", "authorization", "content-type"].iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                return own.error("introspection_headers_names", format_args!("{name} is set by keybound itself"));
            }
            if Exchange::new("POST", "https://as/", &[(name.clone(), value.clone())], b"", 0).is_err() {
                return own
                    .error("introspection_headers_names", format_args!("{name} cannot be sent, or its value cannot"));
            }
        }
        let text = |pairs: &[(String, String)]| {
            pairs.iter().map(|(name, value)| format!("{name}\n{value}\n")).collect::<String>()
        };
        let parts = [
            profile.id(),
            endpoint.auth.client_id.clone(),
            endpoint.url.clone().unwrap_or_default(),
            endpoint.mtls_url.clone().unwrap_or_default(),
            format!("{} {}", endpoint.auth.method.kind(), self.is_signed()),
            text(&arguments),
            text(&headers),
        ];
        let parts: Vec<&[u8]> = std::iter::once(&trust[..]).chain(parts.iter().map(String::as_bytes)).collect();
        Ok(IntrospectionSetup {
            accept: self.accept,
            hint: self.hint.clone(),
            arguments,
            headers,
            algorithms: self.algorithms.clone(),
            id: shared::hash(Domain::Call, &parts),
            ttl: self.ttl,
            ttl_neg: self.ttl_neg,
        })
    }
}

pub(super) fn pairs(options: &Options<'_>, names: &str, values: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let (keys, given) = (options.strings(names)?.unwrap_or_default(), options.strings(values)?.unwrap_or_default());
    if keys.len() != given.len() {
        return options.error(values, format_args!("must have one value for each entry of {names}"));
    }
    Ok(keys.into_iter().zip(given).collect())
}

/// One issuer, read.
pub(super) struct Parsed {
    pub(super) issuer: Issuer,
    pub(super) setup: ServerSetup,
    pub(super) skipped_keys: Vec<SkippedKey>,
}

/// The issuer of `options`, and those of `issuers_allowed`.
pub(super) fn all(
    options: &Options<'_>,
    tls: &mut TlsProfiles,
    asked: &Asked,
    needs_keys: bool,
) -> Result<Vec<Parsed>, ConfigError> {
    const ALLOWED: &str = "issuers_allowed";
    let mut all = vec![one(options, options, tls, asked, needs_keys)?];
    let Some(entries) = options.entries(ALLOWED, '{')? else {
        return Ok(all);
    };
    if entries.is_empty() {
        return options.error(ALLOWED, "must be an array of issuers, or of objects with issuer");
    }
    let valid = [OF_ISSUER, OF_CLIENT].concat();
    for (i, entry) in entries.iter().enumerate() {
        let prefix = format!("{ALLOWED}[{i}].");
        let is_string = entry.get().starts_with('"');
        let own = if is_string {
            Options::new(vec![("issuer".into(), entry.as_ref())], prefix, &valid)?
        } else {
            match json::members(entry.get().as_bytes()) {
                Ok(members) => Options::new(members, prefix, &valid)?,
                Err(e) => {
                    return options
                        .error(&format!("{ALLOWED}[{i}]"), format_args!("must be an issuer, or an object: {e}"));
                }
            }
        };
        // Kong's list names the first issuer again.
        if is_string && own.string("issuer")? == options.string("issuer")? {
            continue;
        }
        let parsed = one(&own, options, tls, asked, needs_keys)?;
        if all.iter().any(|other| other.issuer.name == parsed.issuer.name) {
            return own.error("issuer", "occurs twice: an issuer has one set of keys");
        }
        all.push(parsed);
        if all.len() > MAX_ISSUERS {
            return options.error(ALLOWED, format_args!("at most {MAX_ISSUERS} issuers"));
        }
    }
    Ok(all)
}

/// Reads one issuer. Of `top`, where that is another one, holds the audience, if this one has none.
fn one(
    own: &Options<'_>,
    top: &Options<'_>,
    tls: &mut TlsProfiles,
    asked: &Asked,
    needs_keys: bool,
) -> Result<Parsed, ConfigError> {
    let Some(issuer) = own.string("issuer")? else {
        return own
            .error("issuer", "required: the issuer identifier of the authorization server, as in its tokens' iss");
    };
    if issuer.contains("/.well-known/") {
        return own.error("issuer", "is the issuer identifier, not the URL of its metadata");
    }
    let has_audience =
        ["audience_required", "audience_claim", "insecure_any_audience"].iter().any(|name| own.is_set(name));
    let audience = if has_audience { own.audience()? } else { top.audience()? };
    let (jwks, skipped_keys) = own.keys()?.map_or_else(|| (None, Vec::new()), |(keys, skipped)| (Some(keys), skipped));
    let jwks_uri = url(own, "jwks_uri")?;
    let hosts = own.strings("endpoint_hosts")?.unwrap_or_default();
    if let Some(host) =
        hosts.iter().find(|host| Target::parse(&format!("https://{host}/")).is_ok_and(|t| t.host != **host))
    {
        return own.error("endpoint_hosts", format_args!("{host} must be a host name in lower case, without port"));
    }
    if hosts.iter().any(|host| Target::parse(&format!("https://{host}/")).is_err()) {
        return own.error("endpoint_hosts", "must be host names");
    }
    let trust = Trust {
        trusted: own.string("ssl_trusted_certificate")?,
        verify: own.boolean("ssl_verify")?,
        mutual_verify: own.boolean("tls_client_auth_ssl_verify")?,
    };
    let client = client(own, tls, &trust)?;
    let metadata_tls = tls.profile(own, "metadata_cert_id", own.string("metadata_cert_id")?, &trust)?;
    let profile = |place: usize| tls.get(place).map(TlsProfile::id).unwrap_or_default();
    let trusted = [issuer.as_str(), &profile(metadata_tls), jwks_uri.as_deref().unwrap_or_default()];
    let trusted: Vec<&[u8]> = trusted.into_iter().chain(hosts.iter().map(String::as_str)).map(str::as_bytes).collect();
    let trust = shared::hash(Domain::Document, &trusted);
    let introspection = match &client {
        Some([endpoint, ..]) => match tls.get(endpoint.tls) {
            Some(profile) => Some(asked.setup(own, &trust, endpoint, profile)?),
            None => None,
        },
        None => None,
    };
    let discovers = (needs_keys && jwks.is_none() && jwks_uri.is_none())
        || client.iter().flatten().take(3).any(|endpoint| endpoint.url.is_none() && endpoint.mtls_url.is_none());
    // What is discovered is found by it (RFC 8414 §2).
    if discovers && (Target::parse(&issuer).is_err() || issuer.contains('?')) {
        return own.error(
            "issuer",
            "must be an https URL without query: its metadata is needed, since jwks or jwks_uri, or an endpoint, is not configured",
        );
    }
    Ok(Parsed {
        issuer: Issuer { name: issuer.clone(), audience },
        setup: ServerSetup { issuer, trust, jwks, jwks_uri, hosts, tls: metadata_tls, client, introspection },
        skipped_keys,
    })
}

pub(super) fn url(options: &Options<'_>, name: &str) -> Result<Option<String>, ConfigError> {
    match options.string(name)? {
        Some(url) if Target::parse(&url).is_err() => {
            options.error(name, "must be an https URL (RFC 7662 §2, RFC 8414 §2)")
        }
        url => Ok(url),
    }
}

/// The client at the introspection, token and revocation endpoint, and at that of pushed requests, where it is as at the token endpoint.
fn client(own: &Options<'_>, tls: &mut TlsProfiles, trust: &Trust) -> Result<Option<[EndpointSetup; 4]>, ConfigError> {
    let Some(client_id) = own.string("client_id")? else {
        return match OF_CLIENT.iter().find(|name| own.is_set(name)) {
            Some(name) => own.error(name, "has no effect without client_id"),
            None => Ok(None),
        };
    };
    let credentials = Credentials::of(own, client_id)?;
    let endpoint = |tls: &mut TlsProfiles, endpoint: &str| -> Result<EndpointSetup, ConfigError> {
        let of = |suffix: &str| format!("{endpoint}_{suffix}");
        let (cert_option, cert) = match own.string(&of("endpoint_cert_id"))? {
            Some(name) => (of("endpoint_cert_id"), Some(name)),
            None => ("tls_client_auth_cert_id".to_owned(), own.string("tls_client_auth_cert_id")?),
        };
        let mutual = cert.is_some();
        let place = tls.profile(own, &cert_option, cert, trust)?;
        let option = of("endpoint_auth_method");
        let (option, method) = match own.string(&option)? {
            Some(method) => (option, Some(method)),
            None => ("client_auth".to_owned(), own.string("client_auth")?),
        };
        let auth = credentials.auth(own, &option, method.as_deref(), mutual)?;
        let mtls_url = url(own, &format!("mtls_{endpoint}_endpoint"))?;
        if mtls_url.is_some() && !mutual {
            return own.error(&format!("mtls_{endpoint}_endpoint"), "has no effect without tls_client_auth_cert_id");
        }
        Ok(EndpointSetup { url: url(own, &of("endpoint"))?, mtls_url, auth, tls: place, mutual })
    };
    let (introspection, token, revocation) =
        (endpoint(tls, "introspection")?, endpoint(tls, "token")?, endpoint(tls, "revocation")?);
    let par =
        EndpointSetup { url: url(own, "pushed_authorization_request_endpoint")?, mtls_url: None, ..token.clone() };
    Ok(Some([introspection, token, revocation, par]))
}

/// What the gateway can prove itself with.
struct Credentials {
    client_id: String,
    secret: Option<Arc<Zeroizing<String>>>,
    by_key: Option<Arc<Assertion>>,
    by_secret: Option<Arc<Assertion>>,
    /// `client_alg` is HS256.
    hmac: bool,
}

impl Credentials {
    fn of(own: &Options<'_>, client_id: String) -> Result<Credentials, ConfigError> {
        let secret = own.string("client_secret")?.map(|secret| Arc::new(Zeroizing::new(secret)));
        let alg = own.string("client_alg")?;
        let algorithm = match alg.as_deref() {
            None | Some("HS256") => None,
            Some(name) => match Algorithm::from_name(name) {
                Some(algorithm) => Some(algorithm),
                None => {
                    let all: Vec<&str> = Algorithm::ALL.iter().map(|a| a.name()).collect();
                    return own.error("client_alg", format_args!("must be of {}, HS256", all.join(", ")));
                }
            },
        };
        let by_key = match own.document("client_jwk")? {
            None if algorithm.is_some() => return own.error("client_jwk", "required: the key of client_alg"),
            None => None,
            Some(text) => {
                let key = if text.trim_start().starts_with('{') {
                    match json::parse_object(text.as_bytes()) {
                        Ok(jwk) => SigningKey::from_jwk(&jwk),
                        Err(e) => return own.error("client_jwk", e),
                    }
                } else {
                    SigningKey::from_pem(&text)
                };
                let key = key.or_else(|e| own.error("client_jwk", e))?;
                Some(Arc::new(Assertion::with_key(key, algorithm).or_else(|e| own.error("client_alg", e))?))
            }
        };
        // A secret too short for it is only wrong where the method is used.
        let by_secret =
            secret.as_ref().and_then(|s| Assertion::with_secret(Secret::new(s.as_bytes())).ok()).map(Arc::new);
        Ok(Credentials { client_id, secret, by_key, by_secret, hmac: alg.as_deref() == Some("HS256") })
    }

    /// The method that `option` names; without a name the one that is configured, if it is one.
    fn auth(
        &self,
        own: &Options<'_>,
        option: &str,
        method: Option<&str>,
        mutual: bool,
    ) -> Result<ClientAuth, ConfigError> {
        const METHODS: &str = "tls_client_auth, self_signed_tls_client_auth, client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt or none";
        let method = match (method, &self.secret, &self.by_key, mutual) {
            (Some(method), ..) => method,
            (None, Some(_), None, false) => "client_secret_basic",
            (None, None, Some(_), false) => "private_key_jwt",
            (None, None, None, true) => "tls_client_auth",
            (None, None, None, false) => {
                return own.error(
                    option,
                    "required: configure a certificate (tls_client_auth_cert_id), client_jwk or client_secret; a client that proves nothing is none",
                );
            }
            _ => {
                return own
                    .error(option, format_args!("required, since several credentials are configured: {METHODS}"));
            }
        };
        let secret = || match &self.secret {
            Some(secret) => Ok(Arc::clone(secret)),
            None => own.error("client_secret", format_args!("required by {method}")),
        };
        let method = match method {
            "tls_client_auth" | "self_signed_tls_client_auth" if !mutual => {
                return own.error(
                    "tls_client_auth_cert_id",
                    format_args!("required by {method}: a name in client_certificates"),
                );
            }
            "tls_client_auth" | "self_signed_tls_client_auth" | "none" => Method::ClientId,
            "client_secret_basic" => Method::SecretBasic(secret()?),
            "client_secret_post" => Method::SecretPost(secret()?),
            "client_secret_jwt" => match (secret()?, &self.by_secret) {
                (_, Some(assertion)) => Method::Assertion(Arc::clone(assertion)),
                (_, None) => {
                    return own
                        .error("client_secret", "client_secret_jwt needs one of at least 32 octets (RFC 7518 §3.2)");
                }
            },
            "private_key_jwt" if self.hmac => {
                return own
                    .error("client_alg", "HS256 is for client_secret_jwt: a private key makes no such signature");
            }
            "private_key_jwt" => match &self.by_key {
                Some(assertion) => Method::Assertion(Arc::clone(assertion)),
                None => return own.error("client_jwk", "required by private_key_jwt: a private JWK, or PKCS#8 PEM"),
            },
            _ => return own.error(option, format_args!("must be {METHODS}")),
        };
        Ok(ClientAuth { client_id: self.client_id.clone(), method })
    }
}
