//! Introspection (RFC 7662): what the authorization server says of a token, as JSON or signed (RFC 9701).

use super::shared::{self, Domain, Keep};
use super::{Failure, MAX_ANSWER, MAX_RETRY_S, Server, waits};
use crate::crypto::Algorithm;
use crate::jose::b64;
use crate::jose::claims;
use crate::jose::json::{self, Object, Value};
use crate::jose::jwk::JwkSet;
use crate::jose::jws::{Compact, Header, Type};
use crate::reason::Reason;
use crate::steps::{Endpoint, Fetched, Host, Outcome, Refusal};

/// Oldest `iat` of a signed response, in seconds: it was made for this very request.
const MAX_AGE: i64 = 60;

/// How far the clock of another node may be ahead, in seconds.
const CLOCKS: i64 = 5;

/// `introspection_accept`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    Json,
    /// RFC 9701; nothing else is taken then (no downgrade)
    Jwt,
}

/// How introspection is asked for, as configured.
pub(crate) struct IntrospectionSetup {
    pub(crate) accept: Accept,
    /// `token_type_hint` (RFC 7662 §2.1)
    pub(crate) hint: Option<String>,
    pub(crate) arguments: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) algorithms: Vec<Algorithm>,
    /// Tells this client at this server from all others, for the keys of caches.
    pub(crate) id: [u8; 32],
    /// How long an answer is used, in seconds
    pub(crate) ttl: i64,
    /// How long a refusal is, in seconds
    pub(crate) ttl_neg: i64,
}

impl IntrospectionSetup {
    /// What names a token for this client at this server, and nothing else.
    fn key(&self, token: &str) -> [u8; 32] {
        shared::hash(Domain::Introspection, &[&self.id, token.as_bytes()])
    }
}

/// What the server says.
pub(crate) enum Introspected {
    /// The members of an active token, as JSON.
    Active(Vec<u8>),
    Inactive,
}

/// What is kept of an introspection.
pub(crate) struct Learned {
    /// When the server said so, Unix seconds.
    pub(crate) at: i64,
    pub(crate) said: Introspected,
    /// The others do not know it yet.
    pub(crate) is_news: bool,
}

impl Server {
    /// What the server says of `token`: from the shared store, else from the server.
    pub(crate) async fn introspect(&self, host: &Host, token: &str) -> Result<Learned, Refusal> {
        let setup = self.introspection.as_ref().ok_or(Reason::InternalError)?;
        let key = setup.key(token);
        if setup.ttl > 0
            && let Some((at, claims)) = self.shared.read_of(host, token.as_bytes(), key).await
            && (-CLOCKS..setup.ttl).contains(&host.now().saturating_sub(at))
        {
            self.metrics.introspection_cache(true);
            return Ok(Learned { at, said: Introspected::Active(claims), is_news: false });
        }
        self.metrics.introspection_cache(false);
        if waits(host.now(), self.learnt().next_introspection, i64::from(MAX_RETRY_S)) {
            return Err(unavailable("the server asked to be left alone for a while".into()));
        }
        let mut form = vec![("token".to_owned(), token.to_owned())];
        form.extend(setup.hint.iter().map(|hint| ("token_type_hint".to_owned(), hint.clone())));
        form.extend(setup.arguments.iter().cloned());
        let accept = match setup.accept {
            Accept::Json => "application/json",
            Accept::Jwt => "application/token-introspection+jwt",
        };
        let mut headers = vec![("accept".to_owned(), accept.to_owned())];
        headers.extend(setup.headers.iter().cloned());
        let fetched = self.call(host, Endpoint::Introspection, form, headers, key).await?;
        self.check_answer(&fetched, accept, host.now())?;
        let at = host.now();
        let said = match setup.accept {
            Accept::Json => read(&fetched.body)?,
            Accept::Jwt => self.read_signed(host, setup, &fetched.body).await?,
        };
        // Of several requests that one answer served, one tells the others.
        Ok(Learned { at, said, is_news: !fetched.joined })
    }

    /// Lets the other workers know what the server said of a good token, until it ends. Of bad ones nothing is shared: a flood of them
    /// must not fill the store.
    pub(crate) async fn share(&self, host: &Host, token: &str, at: i64, said: &[u8], expires: i64) {
        if let Some(setup) = &self.introspection {
            let ttl = setup.ttl.min(expires.saturating_sub(at));
            self.shared.write_of(host, token.as_bytes(), setup.key(token), at, said, (ttl, Keep::IfThereIsRoom)).await;
        }
    }

    /// An answer that is no answer is neither yes nor no (7662-2.3-a).
    fn check_answer(&self, fetched: &Fetched, media_type: &str, now: i64) -> Result<(), Refusal> {
        if is_client_refused(fetched) {
            return Err(client_refused(Endpoint::Introspection, fetched));
        }
        let Some(failure) = Failure::of(fetched, media_type) else {
            return Ok(());
        };
        if let Some(retry) = failure.retry {
            self.learnt().next_introspection = now.saturating_add(retry.min(i64::from(MAX_RETRY_S)));
        }
        Err(unavailable(failure.detail))
    }

    /// Reads a signed response (RFC 9701 §5), with the keys of the server.
    async fn read_signed(&self, host: &Host, setup: &IntrospectionSetup, body: &[u8]) -> Result<Introspected, Refusal> {
        let client_id = &self.endpoint(Endpoint::Introspection)?.auth.client_id;
        let verify = |keys: &JwkSet, _| verify(body, keys, &setup.algorithms);
        let is_of_keys =
            |reason: &Reason| matches!(reason, Reason::KeyUnknown | Reason::SignatureInvalid).then_some(*reason);
        match self.verify_with_keys(host, verify, is_of_keys).await? {
            Ok(payload) => read_payload(&payload, &self.issuer, client_id, host.now()),
            Err(Reason::TokenEncrypted) => Err(unavailable("the response is encrypted, which is not supported".into())),
            Err(reason) => Err(unavailable(format!("the signed response: {}", reason.code()))),
        }
    }
}

fn unavailable(detail: String) -> Refusal {
    Refusal::new(Reason::IntrospectionUnavailable, detail)
}

/// Whether the server refused us and not the token (RFC 6749 §5.2, 8705-2-c).
pub(crate) fn is_client_refused(fetched: &Fetched) -> bool {
    let says_so = || {
        json::parse_object(&fetched.body).is_ok_and(|body| {
            matches!(body.get("error").and_then(Value::as_str), Some("invalid_client" | "unauthorized_client"))
        })
    };
    fetched.outcome == Outcome::Answered && (fetched.status == 401 || (fetched.status == 400 && says_so()))
}

pub(crate) fn client_refused(endpoint: Endpoint, fetched: &Fetched) -> Refusal {
    Refusal::new(Reason::ClientRefused, format!("the {} endpoint answered {}", endpoint.name(), fetched.status))
}

/// Reads the members of a response. Only the literal `true` is active, and of an inactive token nothing is read (7662-2.2-a, -d).
fn read(body: &[u8]) -> Result<Introspected, Refusal> {
    let members = json::parse_object(body).map_err(|e| unavailable(format!("the response is not strict JSON: {e}")))?;
    match members.get("active") {
        Some(Value::Bool(true)) => Ok(Introspected::Active(body.to_vec())),
        Some(Value::Bool(false)) => Ok(Introspected::Inactive),
        _ => Err(unavailable("the response has no boolean \"active\"".into())),
    }
}

fn verify(body: &[u8], keys: &JwkSet, algorithms: &[Algorithm]) -> Result<Vec<u8>, Reason> {
    let body = body.trim_ascii();
    if body.len() > MAX_ANSWER {
        return Err(Reason::TokenTooLarge);
    }
    let parts = Compact::parts(body)?;
    let header = Header::parse(parts.header)?;
    if header.typ != Type::Introspection {
        return Err(Reason::TypeRefused);
    }
    if !algorithms.contains(&header.algorithm) {
        return Err(Reason::AlgorithmRefused);
    }
    let payload = b64::decode(parts.payload).ok_or(Reason::TokenNotJwt)?;
    keys.verify(&parts, &header)?;
    Ok(payload)
}

/// Reads the payload of a verified response: made by our server, for us, now; and only what is inside `token_introspection` counts.
fn read_payload(payload: &[u8], issuer: &str, client_id: &str, now: i64) -> Result<Introspected, Refusal> {
    let refuse = |what: &str| unavailable(format!("the signed response: {what}"));
    let outer = json::members(payload).map_err(|_| refuse("its claims are not strict JSON"))?;
    let raw = |name: &str| outer.iter().find(|(n, _)| n == name).map(|(_, raw)| raw.get().as_bytes());
    let value = |name: &str| raw(name).and_then(|raw| json::parse(raw).ok());
    if value("iss").as_ref().and_then(Value::as_str) != Some(issuer) {
        return Err(refuse("iss is not the issuer"));
    }
    let for_us =
        value("aud").is_some_and(|aud| claims::strings(&aud).is_ok_and(|mut all| all.any(|aud| aud == client_id)));
    if !for_us {
        return Err(refuse("aud is not this client"));
    }
    let iat: Object<'_> = value("iat").into_iter().map(|iat| ("iat".into(), iat)).collect();
    match claims::date(&iat, "iat") {
        Ok(Some(iat)) if (iat.saturating_sub(MAX_AGE)..=iat.saturating_add(MAX_AGE)).contains(&now) => {}
        _ => return Err(refuse("iat is absent or not of now")),
    }
    read(raw("token_introspection").ok_or_else(|| refuse("there is no token_introspection"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::FetchAnswer;

    const ISSUER: &str = "https://as.test";

    fn said(result: Result<Introspected, Refusal>) -> &'static str {
        match result {
            Ok(Introspected::Active(_)) => "active",
            Ok(Introspected::Inactive) => "inactive",
            Err(refusal) if refusal.reason == Reason::IntrospectionUnavailable => "unknown",
            Err(_) => "another reason",
        }
    }

    #[test]
    fn rfc7662_2_2_a_only_the_literal_true_is_active_and_what_is_neither_is_unknown() {
        for (body, expected) in [
            (r#"{"active":true}"#, "active"),
            (r#"{"active":false}"#, "inactive"),
            (r#"{"active":false,"exp":"x","cnf":1}"#, "inactive"),
            (r#"{"active":"true"}"#, "unknown"),
            (r#"{"active":1}"#, "unknown"),
            (r#"{"active":null}"#, "unknown"),
            (r#"{}"#, "unknown"),
            (r#"[{"active":true}]"#, "unknown"),
            (r#"{"active":true,"active":true}"#, "unknown"),
            (r#"{"active":true} x"#, "unknown"),
            ("", "unknown"),
            ("null", "unknown"),
            ("\u{feff}{\"active\":true}", "unknown"),
            (r#"{"active":true"#, "unknown"),
        ] {
            assert_eq!(said(read(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn rfc9701_5_b_and_c_a_signed_response_is_of_our_server_for_us_of_now_and_only_the_inside_counts() {
        let read = |payload: &str| said(read_payload(payload.as_bytes(), ISSUER, "gateway", 1000));
        let good = r#"{"iss":"https://as.test","aud":"gateway","iat":1000,"token_introspection":{"active":true}}"#;
        assert_eq!(read(good), "active");
        assert_eq!(read(&good.replace("\"gateway\"", "[\"x\",\"gateway\"]")), "active");
        assert_eq!(read(&good.replace("1000", "940")), "active");
        assert_eq!(read(&good.replace("true}", "false},\"active\":true")), "inactive");
        for (from, to) in [
            ("https://as.test", "https://as.test/"),
            ("\"gateway\"", "\"gateway2\""),
            ("\"gateway\"", "[\"gateway\",1]"),
            ("\"gateway\"", "null"),
            ("1000", "939"),
            ("1000", "1061"),
            ("1000", "\"1000\""),
            ("\"iat\":1000,", ""),
            ("\"aud\":\"gateway\",", ""),
            ("\"iss\":\"https://as.test\",", ""),
            ("token_introspection", "active"),
            ("{\"active\":true}", "true"),
            ("\"iat\"", "\"iss\""),
        ] {
            assert_eq!(read(&good.replace(from, to)), "unknown", "{to}");
        }
    }

    #[test]
    fn rfc8705_2_c_the_servers_refusal_of_the_gateway_is_not_the_tokens_fault() {
        let refused = |status: u16, body: &str| {
            let answer = FetchAnswer { status, body: body.as_bytes(), ..FetchAnswer::failed(Outcome::Answered) };
            is_client_refused(&Fetched::from(answer))
        };
        assert!(refused(401, ""));
        assert!(refused(400, r#"{"error":"invalid_client"}"#));
        assert!(!refused(400, r#"{"error":"unsupported_token_type"}"#));
        assert!(!refused(400, ""));
        assert!(!refused(200, r#"{"error":"invalid_client"}"#));
        assert!(!refused(503, r#"{"error":"invalid_client"}"#));
    }
}
