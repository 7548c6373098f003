//! What a refused client gets, made once at load; and the headers that go on with an allowed request and its response.

use super::config::ClaimHeader;
use crate::binding::Scheme;
use crate::jose::json::{self, Value};
use crate::reason::{Answer, Reason};
use crate::steps::Response;

/// When a client may ask again, in seconds: an authorization server that is restarted is back by then.
const RETRY_AFTER: u32 = 5;

/// The `Content-Type` of an answer for programs, and of one for people.
pub(crate) const JSON: &str = "application/json; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// The response of each reason.
pub(crate) struct Responses {
    to_bearer: Vec<Response>,
    /// Empty where they are the same.
    to_dpop: Vec<Response>,
    internal: Response,
}

/// What the operator says about refusals.
pub(crate) struct Wording<'a> {
    pub(crate) realm: Option<&'a str>,
    pub(crate) scopes: Option<&'a str>,
    pub(crate) expose_error_code: bool,
    pub(crate) display_errors: bool,
    pub(crate) unauthorized: &'a str,
    pub(crate) forbidden: &'a str,
    /// The algorithms of proofs, where they are taken
    pub(crate) algs: Option<String>,
    /// Whether a token without proof can pass
    pub(crate) accepts_bearer: bool,
}

impl Responses {
    pub(crate) fn new(wording: &Wording<'_>) -> Responses {
        let response = |scheme: Scheme, reason: Reason| {
            let answer = reason.answer();
            let message = match answer {
                Answer::Challenge | Answer::InvalidToken | Answer::InvalidProof | Answer::UseNonce => {
                    wording.unauthorized
                }
                Answer::InsufficientScope | Answer::Forbidden => wording.forbidden,
                Answer::InvalidRequest | Answer::BadRequest => "Bad Request",
                Answer::Redirect => "Found",
                Answer::TooEarly => "Too Early",
                Answer::Unavailable => "Service Unavailable",
                Answer::Allow | Answer::Internal => "An unexpected error occurred",
            };
            // An allowed request has no answer of ours: a host that asks for one all the same must not find a success.
            let status = match answer {
                Answer::Allow => Answer::Internal.status(),
                _ => answer.status(),
            };
            let www_authenticate = answer.challenges().then(|| wording.challenges(scheme, reason).into());
            let told = wording.display_errors.then(|| ("reason".into(), Value::Str(reason.code().into())));
            let body = [("message".into(), Value::Str(message.into()))].into_iter().chain(told);
            Response {
                reason,
                status,
                www_authenticate,
                retry_after: (answer == Answer::Unavailable).then_some(RETRY_AFTER),
                content_type: JSON,
                body: Value::Object(body.collect()).to_string().into(),
                headers: Vec::new(),
            }
        };
        Responses {
            internal: response(Scheme::Bearer, Reason::InternalError),
            to_bearer: Reason::ALL.iter().map(|reason| response(Scheme::Bearer, *reason)).collect(),
            to_dpop: match wording.algs {
                Some(_) => Reason::ALL.iter().map(|reason| response(Scheme::Dpop, *reason)).collect(),
                None => Vec::new(),
            },
        }
    }

    /// The response to a request that sent its token with this scheme.
    pub(crate) fn of(&self, scheme: Scheme, reason: Reason) -> &Response {
        let all = if scheme == Scheme::Dpop && !self.to_dpop.is_empty() { &self.to_dpop } else { &self.to_bearer };
        all.iter().find(|r| r.reason == reason).unwrap_or(&self.internal)
    }
}

impl Wording<'_> {
    /// A challenge for each scheme that is accepted. What was wrong is told in that of the scheme that the request used (RFC 9449 §7.2).
    fn challenges(&self, used: Scheme, reason: Reason) -> String {
        let answer = reason.answer();
        // Without this one a client could not go on.
        let error = answer.error().filter(|_| self.expose_error_code || answer == Answer::UseNonce);
        let description = error.filter(|_| self.display_errors).map(|_| reason.code());
        // Groups and roles answer likewise, but the `scope` to ask for is known for scopes only.
        let scopes = self.scopes.filter(|_| error.is_some() && reason == Reason::InsufficientScope);
        let told = [("error", error), ("error_description", description), ("scope", scopes)];
        let is_used = |scheme| {
            let is_only = self.algs.is_none() || !self.accepts_bearer;
            is_only || scheme == used
        };
        let bearer = || {
            let told = told.into_iter().filter(|_| is_used(Scheme::Bearer));
            challenge("Bearer", [("realm", self.realm)].into_iter().chain(told))
        };
        let Some(algs) = &self.algs else {
            return bearer();
        };
        let told = told.into_iter().filter(|_| is_used(Scheme::Dpop));
        let algs = ("algs", Some(algs.as_str()));
        let dpop = challenge("DPoP", [("realm", self.realm)].into_iter().chain(told).chain([algs]));
        // Some clients look at the first one only.
        match used {
            _ if !self.accepts_bearer => dpop,
            Scheme::Bearer => [bearer(), dpop].join(", "),
            Scheme::Dpop => [dpop, bearer()].join(", "),
        }
    }
}

/// A challenge (RFC 6750 §3, RFC 9449 §7.1). Each part was checked at load for the characters that it may have.
fn challenge<'a>(scheme: &str, parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let parameters: Vec<String> =
        parameters.filter_map(|(name, value)| value.map(|value| format!("{name}=\"{value}\""))).collect();
    if parameters.is_empty() { scheme.into() } else { format!("{scheme} {}", parameters.join(", ")) }
}

/// The headers that an allowed request changes.
pub(crate) struct Headers {
    /// Claims for the upstream
    pub(crate) upstream: Vec<ClaimHeader>,
    /// Claims for the client
    pub(crate) downstream: Vec<ClaimHeader>,
    /// Whether the upstream gets no `Authorization`
    pub(crate) hide_credentials: bool,
}

/// Those of one request.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// For the upstream: set to the value, or removed where there is none
    pub(crate) request: Vec<(Box<str>, Option<String>)>,
    /// For the client
    pub(crate) response: Vec<(Box<str>, String)>,
    /// What names the proof that the request used, and when
    pub(crate) spent: Option<Vec<u8>>,
}

impl Changes {
    /// Sets a header for the upstream, or removes it.
    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        self.request.retain(|(own, _)| &**own != name);
        self.request.push((name.into(), value));
    }

    /// Adds headers for the client.
    pub(super) fn respond<const N: usize>(&mut self, headers: Option<[(&'static str, String); N]>) {
        self.response.extend(headers.into_iter().flatten().map(|(name, value)| (name.into(), value)));
    }
}

impl Headers {
    pub(crate) fn is_empty(&self) -> bool {
        self.upstream.is_empty() && self.downstream.is_empty() && !self.hide_credentials
    }

    pub(crate) fn of(&self, claims: &[u8]) -> Changes {
        let claims = json::parse_object(claims).unwrap_or_default();
        let value = |header: &ClaimHeader| claims.at(&header.path).and_then(header_value);
        let request = self.upstream.iter().map(|header| (header.name.clone(), value(header)));
        let response = self.downstream.iter().filter_map(|header| Some((header.name.clone(), value(header)?)));
        Changes {
            request: request.chain(self.hide_credentials.then(|| ("authorization".into(), None))).collect(),
            response: response.collect(),
            spent: None,
        }
    }
}

/// A claim as the text of a header.
pub(super) fn header_value(claim: &Value<'_>) -> Option<String> {
    let text = match claim {
        Value::Null => return None,
        // Two numbers that a float cannot tell apart would be one identity.
        Value::Float(number) if number.abs() > 9_007_199_254_740_992.0 => return None,
        Value::Str(text) => text.clone().into_owned(),
        other => other.to_string(),
    };
    // A line end would be a header of the token's own making.
    (!text.is_empty() && !text.bytes().any(|c| c < 0x20 || c == 0x7f)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wording<'a>(realm: Option<&'a str>, scopes: Option<&'a str>, expose_error_code: bool) -> Wording<'a> {
        let (unauthorized, forbidden) = ("No \"entry\"", "Forbidden");
        Wording {
            realm,
            scopes,
            expose_error_code,
            display_errors: false,
            unauthorized,
            forbidden,
            algs: None,
            accepts_bearer: true,
        }
    }

    fn responses(realm: Option<&str>, scopes: Option<&str>, expose: bool) -> Responses {
        Responses::new(&wording(realm, scopes, expose))
    }

    fn challenge_of(responses: &Responses, reason: Reason) -> &str {
        responses.of(Scheme::Bearer, reason).www_authenticate.as_deref().unwrap_or("-")
    }

    #[test]
    fn rfc6750_3_1_a_each_answer_has_its_status_and_error() {
        let responses = responses(None, Some("read write"), true);
        for (reason, status, challenge) in [
            (Reason::NoToken, 401, "Bearer"),
            (Reason::SeveralTokens, 400, "Bearer error=\"invalid_request\""),
            (Reason::CertificateMismatch, 401, "Bearer error=\"invalid_token\""),
            (Reason::InsufficientScope, 403, "Bearer error=\"insufficient_scope\", scope=\"read write\""),
            (Reason::InsufficientRoles, 403, "Bearer error=\"insufficient_scope\""),
            (Reason::DuplicateHeader, 400, "Bearer error=\"invalid_request\""),
            (Reason::ConsumerNotFound, 403, "-"),
            (Reason::EarlyData, 425, "-"),
            (Reason::InternalError, 500, "-"),
            (Reason::KeysUnavailable, 503, "-"),
            (Reason::IntrospectionUnavailable, 503, "-"),
            (Reason::ClientRefused, 503, "-"),
            (Reason::Allowed, 500, "-"),
        ] {
            assert_eq!(responses.of(Scheme::Bearer, reason).retry_after.is_some(), status == 503);
            assert_eq!(responses.of(Scheme::Bearer, reason).status, status);
            assert_eq!(challenge_of(&responses, reason), challenge);
        }
    }

    #[test]
    fn rfc6750_3_a_the_realm_is_in_every_challenge_once() {
        let responses = responses(Some("api"), None, true);
        assert_eq!(challenge_of(&responses, Reason::NoToken), "Bearer realm=\"api\"");
        assert_eq!(challenge_of(&responses, Reason::TokenExpired), "Bearer realm=\"api\", error=\"invalid_token\"");
    }

    #[test]
    fn without_expose_error_code_the_challenge_says_nothing() {
        let responses = responses(None, Some("read"), false);
        for reason in [Reason::NoToken, Reason::TokenExpired, Reason::InsufficientScope] {
            assert_eq!(challenge_of(&responses, reason), "Bearer");
        }
    }

    #[test]
    fn display_errors_tells_the_reason_in_the_body_and_beside_an_error() {
        let told = |expose_error_code| {
            let base = wording(Some("api"), Some("read"), expose_error_code);
            Responses::new(&Wording { display_errors: true, ..base })
        };
        let responses = told(true);
        for (reason, challenge, body) in [
            (Reason::NoToken, "Bearer realm=\"api\"", r#"{"message":"No \"entry\"","reason":"no_token"}"#),
            (
                Reason::CertificateMismatch,
                "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"certificate_mismatch\"",
                r#"{"message":"No \"entry\"","reason":"certificate_mismatch"}"#,
            ),
            (
                Reason::InsufficientScope,
                "Bearer realm=\"api\", error=\"insufficient_scope\", error_description=\"insufficient_scope\", scope=\"read\"",
                r#"{"message":"Forbidden","reason":"insufficient_scope"}"#,
            ),
            (Reason::ConsumerNotFound, "-", r#"{"message":"Forbidden","reason":"consumer_not_found"}"#),
            (Reason::KeysUnavailable, "-", r#"{"message":"Service Unavailable","reason":"keys_unavailable"}"#),
        ] {
            assert_eq!(challenge_of(&responses, reason), challenge);
            assert_eq!(&*responses.of(Scheme::Bearer, reason).body, body);
        }
        let silent = told(false);
        assert_eq!(challenge_of(&silent, Reason::CertificateMismatch), "Bearer realm=\"api\"");
    }

    #[test]
    fn the_body_is_json_and_without_display_errors_no_answer_holds_a_reason() {
        let responses = responses(None, None, true);
        assert_eq!(&*responses.of(Scheme::Bearer, Reason::TokenExpired).body, r#"{"message":"No \"entry\""}"#);
        for reason in Reason::ALL {
            let response = responses.of(Scheme::Bearer, *reason);
            assert!(!response.body.contains(reason.code()));
            if *reason != Reason::InsufficientScope {
                assert!(!challenge_of(&responses, *reason).contains(reason.code()));
            }
        }
    }

    #[test]
    fn a_claim_with_control_characters_is_no_header() {
        let wanted = |name: &str| ClaimHeader { name: name.into(), path: vec![name.into()] };
        let names = ["s", "n", "big", "huge", "b", "a", "o", "crlf", "del", "empty", "null", "absent"];
        let claims = br#"{"s":"x y","n":7,"big":9223372036854775807,"huge":18446744073709551615,"b":true,"a":["p","q"],"o":{"k":"\n"},"crlf":"a\r\nX-Admin: 1","del":"\u007f","empty":"","null":null}"#;
        let headers = Headers {
            upstream: names.map(wanted).into(),
            downstream: names.map(wanted).into(),
            hide_credentials: false,
        };
        let changes = headers.of(claims);
        let given: Vec<&str> = changes.response.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(given, ["s", "n", "big", "b", "a", "o"]);
        let values: Vec<Option<String>> = changes.request.into_iter().map(|(_, value)| value).collect();
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            values,
            [
                some("x y"),
                some("7"),
                some("9223372036854775807"),
                None,
                some("true"),
                some(r#"["p","q"]"#),
                some(r#"{"k":"\n"}"#),
                None,
                None,
                None,
                None,
                None
            ]
        );
    }
    #[test]
    fn hidden_credentials_are_a_header_that_is_removed() {
        let headers = |hide_credentials| Headers { upstream: Vec::new(), downstream: Vec::new(), hide_credentials };
        assert_eq!(headers(true).of(b"{}").request, [("authorization".into(), None)]);
        assert_eq!(headers(false).of(b"{}").request, []);
        assert!(!headers(true).is_empty() && headers(false).is_empty());
    }
}
