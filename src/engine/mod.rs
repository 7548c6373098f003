//! One request through the gateway: facts in, decision and answer out.

mod cache;
mod check;
pub(crate) mod config;
mod respond;
mod verify;

use std::sync::{Arc, Mutex};

pub use check::{Check, Fetch, FetchAnswer, Granted, StateError, Step, Store, StoreAnswer, StoreOperation};
pub use config::{Config, ConfigError, OPTIONS, OptionDoc, document as configuration_document};
pub use respond::{CONTENT_TYPE, Response};
pub use verify::{Verified, Verifier};

use crate::binding::Bound;
use crate::cert::{ClientCertificate, Identity};
use crate::jose::b64;
use crate::jose::jws::Compact;
use crate::reason::Reason;
use cache::Memory;
use config::UpstreamHeader;
use respond::Responses;

/// The facts of one request, borrowed from the host for one call.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Unix time, seconds
    pub now: i64,
    /// The value of the `Authorization` header, without white space around it
    pub authorization: Option<&'a [u8]>,
    /// How many `Authorization` headers came
    pub authorization_count: u32,
    /// The query of the request target, without `?`
    pub query: &'a [u8],
    /// The certificate of the connection
    pub certificate: ClientCertificate<'a>,
    /// Whether the request came before the handshake was complete (TLS 1.3 early data)
    pub early_data: bool,
}

/// Layer 3: decides about requests. May be shared by threads; two that meet in the cache do not wait for each other.
pub struct Engine {
    verifier: Verifier,
    responses: Responses,
    upstream_headers: Vec<UpstreamHeader>,
    /// Facts that cost much to learn. Only ever tried, never waited for: who finds it taken does the work anew.
    memory: Mutex<Memory>,
}

impl Engine {
    /// Makes an engine from a configuration in JSON.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(config: &[u8]) -> Result<Engine, ConfigError> {
        let mut config = Config::parse(config)?;
        let upstream_headers = std::mem::take(&mut config.upstream_headers);
        let memory = Mutex::new(Memory::new(config.cache_entries, config.cache_bytes));
        let realm = config.realm.take();
        let messages =
            (std::mem::take(&mut config.unauthorized_message), std::mem::take(&mut config.forbidden_message));
        let expose_error_code = config.expose_error_code;
        let verifier = Verifier::from(config);
        let scopes = verifier.scopes();
        Ok(Engine {
            responses: Responses::new(realm.as_deref(), scopes.as_deref(), expose_error_code, &messages),
            verifier,
            upstream_headers,
            memory,
        })
    }

    /// The verifier that this engine decides with.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The headers that an allowed request may carry upstream. The host removes them from every request first, on every path.
    pub fn upstream_header_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.upstream_headers.iter().map(|h| h.name.as_ref())
    }

    /// Decides at once, without claims and headers. Allocates nothing where the token is remembered.
    ///
    /// # Errors
    /// The reason of the refusal; [`Engine::response`] has the answer for it.
    pub fn decide(&self, request: &Request<'_>) -> Result<(), Reason> {
        self.evaluate(request, None).map(|_bound| ())
    }

    /// Decides with claims and headers for the upstream, as a check that may have steps to take.
    pub fn begin(self: &Arc<Self>, request: &Request<'_>) -> Check {
        let mut claims = Vec::new();
        let granted = self.evaluate(request, Some(&mut claims)).map(|bound| {
            let headers = respond::headers(&self.upstream_headers, &claims);
            Granted::new(bound, claims, headers)
        });
        Check::decided(Arc::clone(self), granted)
    }

    /// The answer to a request that was refused for `reason`.
    pub fn response(&self, reason: Reason) -> &Response {
        self.responses.of(reason)
    }

    fn evaluate(&self, request: &Request<'_>, claims: Option<&mut Vec<u8>>) -> Result<Bound, Reason> {
        let token = credentials(request)?;
        if request.early_data && self.verifier.needs_certificate() {
            return Err(Reason::EarlyData);
        }
        let certificate = self.certificate_bytes(request.certificate);
        let (known, remembered) = match self.memory.try_lock() {
            Ok(mut memory) => (certificate.and_then(|bytes| memory.identities.get(bytes)), memory.tokens.get(token)),
            Err(_) => (None, None),
        };
        let identity = match (known, certificate) {
            (Some(identity), _) => Some(identity),
            (None, None) => self.verifier.identity(request.certificate)?,
            (None, Some(bytes)) => self.learn(request.certificate, bytes)?,
        };
        if let Some(facts) = remembered {
            let bound = self.verifier.check_request(&facts, identity.as_ref(), request.now)?;
            if let Some(claims) = claims {
                *claims = b64::decode(Compact::split(token)?.payload).ok_or(Reason::InternalError)?;
            }
            return Ok(bound);
        }
        let verified = self
            .verifier
            .verify_identity(token, identity.as_ref(), request.now)
            // Whatever else is wrong with it: what is no token68 is no bearer token but a malformed header.
            .map_err(|reason| if is_token68(token) { reason } else { Reason::MalformedAuthorization })?;
        if let Ok(mut memory) = self.memory.try_lock() {
            memory.tokens.insert(token, verified.facts, request.now);
        }
        if let Some(claims) = claims {
            *claims = verified.claims;
        }
        Ok(verified.bound)
    }

    /// The bytes of a certificate that is to be identified. They tell its form, so that the same bytes in the wrong one are not
    /// found among those that were right.
    fn certificate_bytes<'a>(&self, certificate: ClientCertificate<'a>) -> Option<&'a [u8]> {
        match certificate {
            ClientCertificate::Der(bytes @ [0x30, ..]) | ClientCertificate::Pem(bytes @ [b'-', ..]) => {
                self.verifier.needs_certificate().then_some(bytes)
            }
            _ => None,
        }
    }

    /// Identifies a certificate, and remembers it by its bytes.
    fn learn(&self, certificate: ClientCertificate<'_>, bytes: &[u8]) -> Result<Option<Identity>, Reason> {
        let identity = self.verifier.identity(certificate)?;
        if let Some(identity) = identity
            && let Ok(mut memory) = self.memory.try_lock()
        {
            memory.identities.insert(bytes, identity);
        }
        Ok(identity)
    }
}

/// The bearer token of the request (RFC 6750 §2).
fn credentials<'a>(request: &Request<'a>) -> Result<&'a [u8], Reason> {
    if request.authorization_count > 1 {
        return Err(Reason::SeveralTokens);
    }
    let authorization = request.authorization.ok_or(Reason::NoToken)?;
    let Some((scheme, rest)) = authorization.split_first_chunk::<6>() else {
        return Err(Reason::NoToken);
    };
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Err(Reason::NoToken);
    }
    let token = match rest {
        [b' ', ..] => trim_spaces(rest),
        // The name of another scheme goes on here.
        [c, ..] if c.is_ascii_alphanumeric() || *c == b'-' || *c == b'_' => return Err(Reason::NoToken),
        _ => return Err(Reason::MalformedAuthorization),
    };
    if token.is_empty() {
        return Err(Reason::MalformedAuthorization);
    }
    if !request.query.is_empty() && has_access_token(request.query) {
        return Err(Reason::SeveralTokens);
    }
    Ok(token)
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

/// `b64token` of RFC 6750 §2.1
fn is_token68(token: &[u8]) -> bool {
    let end = token.iter().rposition(|c| *c != b'=').map_or(0, |i| i.saturating_add(1));
    end > 0 && token.iter().take(end).all(|c| c.is_ascii_alphanumeric() || b"-._~+/".contains(c))
}

/// Whether a query has the parameter `access_token` (RFC 6750 §2.3), whatever of its name is percent-encoded.
fn has_access_token(query: &[u8]) -> bool {
    query.split(|c| *c == b'&').any(|parameter| {
        let name = parameter.split(|c| *c == b'=').next().unwrap_or_default();
        let mut rest = name;
        for expected in b"access_token" {
            rest = match rest {
                [b'%', hex @ ..] => match hex.split_first_chunk::<2>() {
                    Some((digits, tail)) if unhex(*digits) == Some(*expected) => tail,
                    _ => return false,
                },
                [c, tail @ ..] if c == expected => tail,
                _ => return false,
            };
        }
        rest.is_empty()
    })
}

fn unhex(digits: [u8; 2]) -> Option<u8> {
    let text = std::str::from_utf8(&digits).ok()?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(authorization: Option<&str>, query: &str) -> Result<String, Reason> {
        let request = Request {
            now: 0,
            authorization: authorization.map(str::as_bytes),
            authorization_count: u32::from(authorization.is_some()),
            query: query.as_bytes(),
            certificate: ClientCertificate::Absent,
            early_data: false,
        };
        credentials(&request).map(|t| String::from_utf8_lossy(t).into_owned())
    }

    #[test]
    fn rfc6750_2_1_a_the_scheme_is_case_insensitive() {
        for header in ["Bearer a", "bearer a", "BEARER a", "bEaReR   a"] {
            assert_eq!(token(Some(header), ""), Ok("a".into()), "{header}");
        }
    }

    #[test]
    fn rfc6750_3_1_a_no_bearer_credentials_are_no_token() {
        assert_eq!(token(None, ""), Err(Reason::NoToken));
        for header in ["", "a", "Basic abc", "BearerX abc", "Bearer-x abc", "DPoP abc"] {
            assert_eq!(token(Some(header), ""), Err(Reason::NoToken), "{header}");
        }
    }

    #[test]
    fn rfc6750_2_1_b_a_bearer_header_without_one_token_is_malformed() {
        for header in ["Bearer", "Bearer ", "Bearer   ", "Bearer\ta", "Bearer=a", "Bearer,a"] {
            assert_eq!(token(Some(header), ""), Err(Reason::MalformedAuthorization), "{header}");
        }
        for (text, ok) in [
            ("a", true),
            ("a-._~+/9==", true),
            ("=", false),
            ("a=b", false),
            ("a b", false),
            ("a,b", false),
            ("a ", false),
            ("\"a\"", false),
            ("ä", false),
        ] {
            assert_eq!(is_token68(text.as_bytes()), ok, "{text}");
        }
    }

    #[test]
    fn rfc6750_2_a_a_second_token_in_the_query_is_refused() {
        for query in [
            "access_token=x",
            "a=b&access_token=x",
            "access_token",
            "access%5ftoken=x",
            "%61ccess_token=",
            "a&access_token=x&b",
        ] {
            assert_eq!(token(Some("Bearer a"), query), Err(Reason::SeveralTokens), "{query}");
        }
        for query in [
            "",
            "access_tokens=x",
            "xaccess_token=x",
            "a=access_token",
            "Access_token=x",
            "access_toke",
            "access%5token=x",
            "%",
            "&&&",
        ] {
            assert_eq!(token(Some("Bearer a"), query), Ok("a".into()), "{query}");
        }
    }
}
