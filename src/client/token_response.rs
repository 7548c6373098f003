//! What a token endpoint answers (RFC 6749 §5.1, §5.2): tokens, a no, or neither.

use zeroize::Zeroizing;

use super::Failure;
use super::id_token::MAX_ID_TOKEN;
use super::introspection::is_client_refused;
use crate::jose::json::{self, Object, Value};
use crate::jose::jws::MAX_TOKEN;
use crate::steps::{Fetched, Outcome};

/// Longest error code that is copied; the registered ones are shorter by far.
const MAX_CODE: usize = 64;
/// Whole numbers beyond this are not exact in a float.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The tokens of a grant.
pub(crate) struct TokenResponse {
    pub(crate) access_token: Zeroizing<String>,
    /// Seconds from now, more than 0
    pub(crate) expires_in: Option<i64>,
    pub(crate) refresh_token: Option<Zeroizing<String>>,
    pub(crate) id_token: Option<Zeroizing<String>>,
    pub(crate) scope: Option<String>,
}

/// Why there are no tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// The server said no to this grant, with its error code.
    Refused(Option<String>),
    /// Neither yes nor no; a sentence for the operator.
    Unavailable(String),
    /// The server refuses the gateway itself; likewise.
    Client(String),
}

/// Reads an answer. Of an error, only the code is copied: the description may hold anything.
pub(crate) fn read(fetched: &Fetched) -> Result<TokenResponse, TokenError> {
    let Some(failure) = Failure::of(fetched, "application/json") else {
        return tokens(&fetched.body);
    };
    let code = match (fetched.outcome, fetched.status) {
        (Outcome::Answered, 400..=499) => error_code(&fetched.body),
        _ => return Err(TokenError::Unavailable(failure.detail)),
    };
    let speaks_of_grant = matches!(code.as_deref(), Some("invalid_grant" | "access_denied" | "expired_token"));
    // For a wrong password Keycloak answers 401 with invalid_grant, which is no word on the client.
    if speaks_of_grant && matches!(fetched.status, 400 | 401 | 403) {
        return Err(TokenError::Refused(code));
    }
    let detail = match &code {
        Some(code) => format!("{}: {code}", failure.detail),
        None => failure.detail,
    };
    let names_client = matches!(code.as_deref(), Some("invalid_client" | "unauthorized_client"));
    Err(if names_client || is_client_refused(fetched) {
        TokenError::Client(detail)
    } else {
        TokenError::Unavailable(detail)
    })
}

/// The error code, if it looks like a registered one.
pub(crate) fn error_code(body: &[u8]) -> Option<String> {
    let members = json::parse_object(body).ok()?;
    members.get("error")?.as_str().filter(|code| is_code(code)).map(str::to_owned)
}

/// Whether a text is one that an error code may be copied from into a log.
fn is_code(code: &str) -> bool {
    (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'_'))
}

fn tokens(body: &[u8]) -> Result<TokenResponse, TokenError> {
    let unavailable = |what: &str| TokenError::Unavailable(what.to_owned());
    let members = json::parse_object(body)
        .map_err(|e| TokenError::Unavailable(format!("the token response is not strict JSON: {e}")))?;
    let typ = members.get("token_type").and_then(Value::as_str);
    // RFC 6749 §7.1: a type that is not understood must not be used.
    if !typ.is_some_and(|typ| typ.eq_ignore_ascii_case("Bearer")) {
        return Err(unavailable("token_type is not Bearer"));
    }
    let token = |name: &str, longest: usize| match present(&members, name) {
        None => Ok(None),
        Some(Value::Str(token)) if is_token(token, longest) => Ok(Some(Zeroizing::new(token.as_ref().to_owned()))),
        Some(_) => Err(TokenError::Unavailable(format!("{name} is not a token of at most {longest} characters"))),
    };
    let expires_in = match present(&members, "expires_in") {
        None => None,
        Some(Value::Int(seconds)) => Some(*seconds),
        Some(Value::Float(seconds)) if seconds.fract() == 0.0 && seconds.abs() <= MAX_WHOLE => Some(*seconds as i64),
        Some(_) => return Err(unavailable("expires_in is not a whole number")),
    };
    if expires_in.is_some_and(|seconds| seconds <= 0) {
        return Err(unavailable("expires_in is not more than 0"));
    }
    let scope = match present(&members, "scope") {
        None => None,
        Some(Value::Str(scope)) => Some(scope.as_ref().to_owned()),
        Some(_) => return Err(unavailable("scope is not a string")),
    };
    Ok(TokenResponse {
        access_token: token("access_token", MAX_TOKEN)?.ok_or_else(|| unavailable("there is no access_token"))?,
        expires_in,
        refresh_token: token("refresh_token", MAX_TOKEN)?,
        id_token: token("id_token", MAX_ID_TOKEN)?,
        scope,
    })
}

/// A member. Some servers write `null` for what they leave out.
fn present<'v, 'a>(members: &'v Object<'a>, name: &str) -> Option<&'v Value<'a>> {
    members.get(name).filter(|value| **value != Value::Null)
}

/// RFC 6749 §A.12 without the space, which no header could carry.
fn is_token(token: &str, longest: usize) -> bool {
    (1..=longest).contains(&token.len()) && token.bytes().all(|octet| octet.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::FetchAnswer;

    const GOOD: &str = r#"{"access_token":"at","token_type":"Bearer","expires_in":300,"refresh_token":"rt","id_token":"a.b.c","scope":"openid x"}"#;

    fn answered(status: u16, content_type: &str, body: &str) -> Result<TokenResponse, TokenError> {
        read(&Fetched::from(FetchAnswer {
            status,
            content_type: content_type.as_bytes(),
            body: body.as_bytes(),
            ..FetchAnswer::failed(Outcome::Answered)
        }))
    }

    fn ok(body: &str) -> Result<TokenResponse, TokenError> {
        answered(200, "application/json", body)
    }

    fn unavailable(result: Result<TokenResponse, TokenError>) -> Option<String> {
        match result {
            Err(TokenError::Unavailable(why)) => Some(why),
            _ => None,
        }
    }

    #[test]
    fn rfc6749_5_1_a_the_members_of_a_success_are_read() {
        let all = ok(GOOD).expect("tokens");
        assert_eq!(*all.access_token, "at");
        assert_eq!(all.expires_in, Some(300));
        assert_eq!(all.refresh_token.as_ref().map(|t| t.as_str()), Some("rt"));
        assert_eq!(all.id_token.as_ref().map(|t| t.as_str()), Some("a.b.c"));
        assert_eq!(all.scope.as_deref(), Some("openid x"));
        for few in [
            r#"{"access_token":"at","token_type":"bearer"}"#,
            r#"{"access_token":"at","token_type":"BEARER","expires_in":null,"refresh_token":null,"id_token":null,"scope":null,"x":[1]}"#,
        ] {
            let few = ok(few).expect("tokens");
            assert_eq!(*few.access_token, "at");
            assert!(few.expires_in.is_none() && few.refresh_token.is_none());
            assert!(few.id_token.is_none() && few.scope.is_none());
        }
    }

    #[test]
    fn rfc6749_5_1_b_only_strict_json_with_its_media_type_is_a_success() {
        assert!(answered(200, "Application/JSON;charset=UTF-8", GOOD).is_ok());
        for typ in ["", "text/html", "application/x-www-form-urlencoded", "application/jwt"] {
            assert!(unavailable(answered(200, typ, GOOD)).expect("unavailable").contains("application/json"), "{typ}");
        }
        for status in [201, 204, 302, 304] {
            assert_eq!(unavailable(answered(status, "application/json", GOOD)), Some(format!("status {status}")));
        }
        let twice = GOOD.replacen('{', r#"{"access_token":"other","#, 1);
        for body in ["", "null", "[]", "access_token=at&token_type=Bearer", &GOOD[1..], &format!("{GOOD} x"), &twice] {
            let why = unavailable(ok(body)).expect("unavailable");
            assert!(why.starts_with("the token response is not strict JSON"), "{body}: {why}");
        }
    }

    #[test]
    fn rfc6749_7_1_a_a_token_type_that_is_not_bearer_is_not_used() {
        for typ in ["\"DPoP\"", "\"mac\"", "\"N_A\"", "\"Bearer \"", "\"\"", "null", "1", "[\"Bearer\"]"] {
            let why = unavailable(ok(&GOOD.replace("\"Bearer\"", typ)));
            assert_eq!(why.as_deref(), Some("token_type is not Bearer"), "{typ}");
        }
        let absent = GOOD.replace(r#""token_type":"Bearer","#, "");
        assert_eq!(unavailable(ok(&absent)).as_deref(), Some("token_type is not Bearer"));
    }

    #[test]
    fn a_token_is_of_visible_characters_and_bounded() {
        for (name, own, longest) in
            [("access_token", "\"at\"", 8192), ("refresh_token", "\"rt\"", 8192), ("id_token", "\"a.b.c\"", 16384)]
        {
            let with = |value: &str| {
                let body = GOOD.replace(&format!("\"{name}\":{own}"), &format!("\"{name}\":{value}"));
                ok(&body)
            };
            assert!(with("\"!~\"").is_ok());
            assert!(with(&format!("\"{}\"", "x".repeat(longest))).is_ok());
            let long = format!("\"{}\"", "x".repeat(longest + 1));
            for bad in [
                "\"\"",
                "1",
                "true",
                "[\"a\"]",
                "{}",
                "\"a b\"",
                "\"a\\n\"",
                "\"a\\u007f\"",
                "\"\u{e4}\"",
                "\"a\\u0009\"",
                &long,
            ] {
                let why = unavailable(with(bad)).expect("unavailable");
                assert!(why.starts_with(&format!("{name} is not a token")), "{bad}: {why}");
            }
            assert!(unavailable(with("\"\\u0000\"")).is_some());
        }
        for absent in [r#"{"token_type":"Bearer"}"#, r#"{"token_type":"Bearer","access_token":null}"#] {
            assert_eq!(unavailable(ok(absent)).as_deref(), Some("there is no access_token"));
        }
    }

    #[test]
    fn rfc6749_5_1_c_expires_in_is_a_whole_number_of_seconds_in_the_future() {
        let read = |value: &str| ok(&GOOD.replace("300", value));
        for (value, seconds) in
            [("1", 1), ("300.0", 300), ("3e2", 300), ("9007199254740992.0", 1 << 53), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(read(value).expect("tokens").expires_in, Some(seconds), "{value}");
        }
        for value in ["0", "-1", "0.0", "-0.0", "-300.0"] {
            assert_eq!(unavailable(read(value)).as_deref(), Some("expires_in is not more than 0"), "{value}");
        }
        for value in ["\"300\"", "300.5", "1e300", "9223372036854775808", "true", "[300]", "{}"] {
            assert_eq!(unavailable(read(value)).as_deref(), Some("expires_in is not a whole number"), "{value}");
        }
    }

    #[test]
    fn a_scope_is_a_string() {
        for scope in ["[\"openid\"]", "1", "false", "{}"] {
            let why = unavailable(ok(&GOOD.replace("\"openid x\"", scope)));
            assert_eq!(why.as_deref(), Some("scope is not a string"), "{scope}");
        }
    }

    #[test]
    fn rfc6749_5_2_a_an_error_is_of_the_grant_of_the_client_or_of_the_server() {
        let refused = |code: &str| TokenError::Refused(Some(code.into()));
        let unavailable = |why: &str| TokenError::Unavailable(why.into());
        let client = |why: &str| TokenError::Client(why.into());
        for (status, error, expected) in [
            (400, "invalid_grant", refused("invalid_grant")),
            (403, "invalid_grant", refused("invalid_grant")),
            (401, "invalid_grant", refused("invalid_grant")),
            (400, "access_denied", refused("access_denied")),
            (400, "expired_token", refused("expired_token")),
            (404, "invalid_grant", unavailable("status 404: invalid_grant")),
            (429, "invalid_grant", unavailable("status 429: invalid_grant")),
            (400, "invalid_request", unavailable("status 400: invalid_request")),
            (400, "invalid_scope", unavailable("status 400: invalid_scope")),
            (400, "unsupported_grant_type", unavailable("status 400: unsupported_grant_type")),
            (400, "invalid_client", client("status 400: invalid_client")),
            (400, "unauthorized_client", client("status 400: unauthorized_client")),
            (403, "unauthorized_client", client("status 403: unauthorized_client")),
            (401, "invalid_client", client("status 401: invalid_client")),
            (401, "invalid_token", client("status 401: invalid_token")),
            (500, "invalid_grant", unavailable("status 500")),
            (503, "invalid_client", unavailable("status 503")),
            (302, "invalid_grant", unavailable("status 302")),
            (200, "invalid_grant", unavailable("token_type is not Bearer")),
        ] {
            let body = format!(r#"{{"error":"{error}","error_description":"user bob, code 4711"}}"#);
            assert_eq!(answered(status, "application/json", &body).err(), Some(expected), "{status} {error}");
        }
        assert_eq!(answered(401, "text/html", "<h1>no</h1>").err(), Some(client("status 401")));
    }

    #[test]
    fn an_error_code_is_copied_only_if_it_looks_like_one() {
        let long = format!("\"{}\"", "a".repeat(65));
        for error in ["\"bob's password\"", "\"invalid grant\"", "\"Invalid_grant\"", "\"\"", "null", "1", "{}", &long]
        {
            let result = answered(400, "application/json", &format!(r#"{{"error":{error}}}"#));
            assert_eq!(unavailable(result).as_deref(), Some("status 400"), "{error}");
        }
        let twice = r#"{"error":"invalid_grant","error":"invalid_grant"}"#;
        assert_eq!(unavailable(answered(400, "application/json", twice)).as_deref(), Some("status 400"));
        let longest = "a".repeat(64);
        let result = answered(400, "application/json", &format!(r#"{{"error":"{longest}"}}"#));
        assert_eq!(unavailable(result), Some(format!("status 400: {longest}")));
    }

    #[test]
    fn no_answer_is_neither_yes_nor_no() {
        for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Answered) {
            assert!(unavailable(read(&Fetched::from(FetchAnswer::failed(outcome)))).is_some(), "{outcome:?}");
        }
    }
}
