//! What a refused client gets, made once at load; and what the upstream of an allowed one gets.

use super::config::UpstreamHeader;
use crate::jose::json::{self, Value};
use crate::reason::{Answer, Reason};

/// The whole answer to a refused request.
#[derive(Debug)]
pub struct Response {
    /// Why, for the log; never sent
    pub reason: Reason,
    /// HTTP status
    pub status: u16,
    /// The one `WWW-Authenticate` value (RFC 6750 §3), where the status has one
    pub www_authenticate: Option<Box<str>>,
    /// `Retry-After`, seconds, where the status has one
    pub retry_after: Option<u32>,
    /// JSON
    pub body: Box<str>,
}

/// When a client may ask again, in seconds: an authorization server that is restarted is back by then.
const RETRY_AFTER: u32 = 5;

/// The `Content-Type` of [`Response::body`].
pub const CONTENT_TYPE: &str = "application/json; charset=utf-8";

/// The response of each reason.
pub(crate) struct Responses {
    by_reason: Vec<Response>,
    internal: Response,
}

impl Responses {
    pub(crate) fn new(
        realm: Option<&str>,
        scopes: Option<&str>,
        expose_error_code: bool,
        (unauthorized, forbidden): &(String, String),
    ) -> Responses {
        let response = |reason: Reason| {
            let answer = reason.answer();
            let message = match answer {
                Answer::Challenge | Answer::InvalidToken => unauthorized,
                Answer::InsufficientScope => forbidden,
                Answer::InvalidRequest => "Bad Request",
                Answer::TooEarly => "Too Early",
                Answer::Unavailable => "Service Unavailable",
                Answer::Allow | Answer::Internal => "An unexpected error occurred",
            };
            // An allowed request has no answer of ours: a host that asks for one all the same must not find a success.
            let status = match answer {
                Answer::Allow => Answer::Internal.status(),
                _ => answer.status(),
            };
            let www_authenticate = matches!(status, 400 | 401 | 403).then(|| {
                let error = answer.error().filter(|_| expose_error_code);
                // Groups and roles answer likewise, but the `scope` to ask for is known for scopes only.
                let scopes = scopes.filter(|_| error.is_some() && reason == Reason::InsufficientScope);
                challenge(realm, error, scopes).into()
            });
            Response {
                reason,
                status,
                www_authenticate,
                retry_after: (answer == Answer::Unavailable).then_some(RETRY_AFTER),
                body: Value::Object([("message".into(), Value::Str(message.into()))].into_iter().collect())
                    .to_string()
                    .into(),
            }
        };
        Responses {
            internal: response(Reason::InternalError),
            by_reason: Reason::ALL.iter().copied().map(response).collect(),
        }
    }

    pub(crate) fn of(&self, reason: Reason) -> &Response {
        self.by_reason.iter().find(|r| r.reason == reason).unwrap_or(&self.internal)
    }
}

/// A `Bearer` challenge (RFC 6750 §3). Each part was checked at load for the characters that it may have.
fn challenge(realm: Option<&str>, error: Option<&str>, scope: Option<&str>) -> String {
    let parameters: Vec<String> = [("realm", realm), ("error", error), ("scope", scope)]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}=\"{value}\"")))
        .collect();
    if parameters.is_empty() { "Bearer".into() } else { format!("Bearer {}", parameters.join(", ")) }
}

/// The value of each upstream header, `None` where the claim is absent or cannot be a header.
pub(crate) fn headers(wanted: &[UpstreamHeader], claims: &[u8]) -> Vec<(Box<str>, Option<String>)> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let claims = json::parse_object(claims).unwrap_or_default();
    wanted.iter().map(|header| (header.name.clone(), claims.at(&header.path).and_then(header_value))).collect()
}

fn header_value(claim: &Value<'_>) -> Option<String> {
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

    fn responses(realm: Option<&str>, scopes: Option<&str>, expose: bool) -> Responses {
        Responses::new(realm, scopes, expose, &("No \"entry\"".into(), "Forbidden".into()))
    }

    fn challenge_of(responses: &Responses, reason: Reason) -> &str {
        responses.of(reason).www_authenticate.as_deref().unwrap_or("-")
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
            (Reason::EarlyData, 425, "-"),
            (Reason::InternalError, 500, "-"),
            (Reason::KeysUnavailable, 503, "-"),
            (Reason::IntrospectionUnavailable, 503, "-"),
            (Reason::ClientRefused, 503, "-"),
            (Reason::Allowed, 500, "-"),
        ] {
            assert_eq!(responses.of(reason).retry_after.is_some(), status == 503);
            assert_eq!(responses.of(reason).status, status);
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
    fn the_body_is_json_and_no_answer_holds_a_reason() {
        let responses = responses(None, None, true);
        assert_eq!(&*responses.of(Reason::TokenExpired).body, r#"{"message":"No \"entry\""}"#);
        for reason in Reason::ALL {
            let response = responses.of(*reason);
            assert!(!response.body.contains(reason.code()));
            if *reason != Reason::InsufficientScope {
                assert!(!challenge_of(&responses, *reason).contains(reason.code()));
            }
        }
    }

    #[test]
    fn a_claim_with_control_characters_is_no_header() {
        let wanted = |name: &str| UpstreamHeader { name: name.into(), path: vec![name.into()] };
        let wanted = ["s", "n", "big", "huge", "b", "a", "o", "crlf", "del", "empty", "null", "absent"].map(wanted);
        let claims = br#"{"s":"x y","n":7,"big":9223372036854775807,"huge":18446744073709551615,"b":true,"a":["p","q"],"o":{"k":"\n"},"crlf":"a\r\nX-Admin: 1","del":"\u007f","empty":"","null":null}"#;
        let values: Vec<Option<String>> = headers(&wanted, claims).into_iter().map(|(_, value)| value).collect();
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
}
