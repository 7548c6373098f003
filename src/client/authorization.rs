//! The browser's way to the authorization server and back (RFC 6749 §4.1, RFC 7636, RFC 9207; OpenID Connect Core 1.0 §3.1.2).

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::crypto;
use crate::jose::b64;
use crate::jose::json::{self, Object, Value};

/// Longest path and query that a user is sent back to, in bytes: it travels in a cookie.
const MAX_RETURN: usize = 2048;
/// Longest query of the redirect URI, in bytes: what nginx takes in a request line.
const MAX_QUERY: usize = 8 * 1024;
/// Longest authorization code, in bytes.
const MAX_CODE: usize = 4096;
/// Longest `iss`, in bytes.
const MAX_ISSUER: usize = 2048;
/// Longest error code that is copied; the registered ones are shorter by far.
const MAX_ERROR: usize = 64;
/// The form of a [`Transaction`] as JSON.
const VERSION: i64 = 1;

/// One login under way, sealed into a cookie of the browser until it comes back.
pub(crate) struct Transaction {
    pub(crate) state: String,
    pub(crate) nonce: String,
    /// `code_verifier`
    pub(crate) verifier: String,
    /// Path and query
    pub(crate) return_to: String,
    /// Unix seconds
    pub(crate) begun: i64,
}

impl Transaction {
    /// A new one, that leads back to `target` if a user may be sent there, else to `/`. None if the system has no randomness.
    pub(crate) fn new(target: &str, now: i64) -> Option<Transaction> {
        // RFC 7636 §4.1 recommends 32 octets for the verifier.
        let fresh = || Some(b64::encode(&crypto::random::<32>()?));
        Some(Transaction {
            state: fresh()?,
            nonce: fresh()?,
            verifier: fresh()?,
            return_to: return_to(target).unwrap_or("/").to_owned(),
            begun: now,
        })
    }

    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        fn text(text: &str) -> Value<'_> {
            Value::Str(Cow::Borrowed(text))
        }
        let members = [
            ("v", Value::Int(VERSION)),
            ("state", text(&self.state)),
            ("nonce", text(&self.nonce)),
            ("verifier", text(&self.verifier)),
            ("return_to", text(&self.return_to)),
            ("begun", Value::Int(self.begun)),
        ];
        let object: Object<'_> = members.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Zeroizing::new(Value::Object(object).to_string().into_bytes())
    }

    /// Reads what [`Self::to_json`] wrote, and nothing else.
    pub(crate) fn parse(text: &[u8]) -> Option<Transaction> {
        let members = json::parse_object(text).ok()?;
        if members.iter().count() != 6 || members.get("v") != Some(&Value::Int(VERSION)) {
            return None;
        }
        let random = |name: &str| {
            let text = members.get(name)?.as_str()?;
            b64::decode_sha256(text).map(|_| text.to_owned())
        };
        let &Value::Int(begun) = members.get("begun")? else {
            return None;
        };
        Some(Transaction {
            state: random("state")?,
            nonce: random("nonce")?,
            verifier: random("verifier")?,
            return_to: return_to(members.get("return_to")?.as_str()?)?.to_owned(),
            begun,
        })
    }

    /// `code_challenge` by S256 (RFC 7636 §4.2).
    pub(crate) fn challenge(&self) -> String {
        b64::encode(&crypto::sha256(self.verifier.as_bytes()))
    }
}

/// The part of a `state` that tells the cookies of logins apart that are under way at the same time.
pub(crate) fn cookie_suffix(state: &str) -> &str {
    state.get(..16).unwrap_or_default()
}

/// Where a user may be sent back to: path and query of our own origin.
///
/// Browsers read `\` as `/`, drop tabs and line ends, and take `//host` for another host; all of these are refused. Percent-encoded
/// they are part of the path, and no browser decodes them before it looks for a host.
pub(crate) fn return_to(target: &str) -> Option<&str> {
    let is_fit = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'\\' | b'#');
    let is_ours = target.len() <= MAX_RETURN
        && target.starts_with('/')
        && !target.starts_with("//")
        && target.bytes().all(is_fit);
    is_ours.then_some(target)
}

/// The parameters of the authorization request, also for a pushed one (RFC 9126 §2.1). What is `extra` adds to them and replaces none
/// (RFC 6749 §3.1: none more than once).
pub(crate) fn parameters(
    transaction: &Transaction,
    client_id: &str,
    redirect_uri: &str,
    scope: &str,
    extra: &[(String, String)],
) -> Vec<(String, String)> {
    let challenge = transaction.challenge();
    let mut parameters: Vec<(String, String)> = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("scope", scope),
        ("state", &transaction.state),
        ("nonce", &transaction.nonce),
        ("code_challenge", &challenge),
        // Never plain (RFC 7636 §7.2).
        ("code_challenge_method", "S256"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let added: Vec<_> =
        extra.iter().filter(|(name, _)| parameters.iter().all(|(own, _)| own != name)).cloned().collect();
    parameters.extend(added);
    parameters
}

/// The endpoint with `parameters` behind what it has of its own (RFC 6749 §3.1).
pub(crate) fn url(endpoint: &str, parameters: &[(String, String)]) -> String {
    // An endpoint has no fragment (RFC 6749 §3.1); in one, the parameters would not be sent.
    let endpoint = endpoint.split('#').next().unwrap_or_default();
    let joint = match endpoint.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("{endpoint}{joint}{query}")
}

/// What the authorization server says of the login.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    Code {
        code: String,
    },
    Error {
        /// The error code, or `unknown`
        error: String,
    },
}

/// What came back to the redirect URI.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Callback {
    pub(crate) state: String,
    pub(crate) iss: Option<String>,
    pub(crate) returned: Returned,
}

/// Reads the query of the redirect URI. A parameter without a value is there: who leaves it out has no reason to name it.
pub(crate) fn callback(query: &[u8]) -> Result<Callback, &'static str> {
    if query.len() > MAX_QUERY {
        return Err("the query is longer than 8 KiB");
    }
    let (mut state, mut iss, mut code, mut error) = (None, None, None, None);
    for (name, value) in form_urlencoded::parse(query) {
        // Nothing reads a description, and that of Entra ID has several lines.
        let lines = name == "error_description";
        if !is_clean(&name, false) || !is_clean(&value, lines) {
            return Err("a parameter holds a control character or is not UTF-8");
        }
        let (own, twice) = match name.as_ref() {
            "state" => (&mut state, "state came twice"),
            "iss" => (&mut iss, "iss came twice"),
            "code" => (&mut code, "code came twice"),
            "error" => (&mut error, "error came twice"),
            _ => continue,
        };
        if own.replace(value).is_some() {
            return Err(twice);
        }
    }
    let state = state.ok_or("there is no state")?;
    if b64::decode_sha256(&state).is_none() {
        return Err("state is none of ours");
    }
    if iss.as_ref().is_some_and(|iss| iss.len() > MAX_ISSUER) {
        return Err("iss is too long");
    }
    let returned = match (code, error) {
        (Some(code), None) if is_code(&code) => Returned::Code { code: code.into_owned() },
        (Some(_), None) => return Err("code is empty, too long, or not of visible characters"),
        (None, Some(error)) => Returned::Error { error: error_code(&error).to_owned() },
        (Some(_), Some(_)) => return Err("both code and error came"),
        (None, None) => return Err("neither code nor error came"),
    };
    Ok(Callback { state: state.into_owned(), iss: iss.map(Cow::into_owned), returned })
}

/// Whether a decoded text is without control characters, but for line ends and tabs where there may be `lines`, and was UTF-8: what
/// was not, the decoder marks.
fn is_clean(text: &str, lines: bool) -> bool {
    text.chars().all(|c| match c {
        '\n' | '\r' | '\t' => lines,
        char::REPLACEMENT_CHARACTER => false,
        _ => !c.is_control(),
    })
}

fn is_code(code: &str) -> bool {
    (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|octet| octet.is_ascii_graphic())
}

/// The error code as far as it may be logged and shown: anybody can write one into a link.
fn error_code(error: &str) -> &str {
    let is_code = !error.is_empty() && error.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'_'));
    if is_code { error.get(..MAX_ERROR).unwrap_or(error) } else { "unknown" }
}

/// Whether the response is from this issuer (RFC 9207 §2.4). `promised`: its metadata say that it sends `iss`.
pub(crate) fn check_iss(iss: Option<&str>, issuer: &str, promised: bool) -> bool {
    iss.map_or(!promised, |iss| iss == issuer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

    fn transaction() -> Transaction {
        Transaction {
            state: STATE.into(),
            nonce: "MTggvrjYXncmIo6Jya7enOgwlhq2_PzmWyMeOdnYZlw".into(),
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into(),
            return_to: "/a?b=c".into(),
            begun: 1_800_000_000,
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn rfc7636_4_2_a_the_challenge_is_that_of_appendix_b() {
        assert_eq!(transaction().challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn rfc7636_4_1_a_state_nonce_and_verifier_are_32_octets_each_and_never_the_same() {
        let (a, b) = (Transaction::new("/", 7).expect("new"), Transaction::new("/", 7).expect("new"));
        let values = [&a.state, &a.nonce, &a.verifier, &b.state, &b.nonce, &b.verifier];
        for (i, value) in values.iter().enumerate() {
            assert!(b64::decode_sha256(value).is_some());
            assert!(values[..i].iter().all(|other| other != value));
        }
        assert_eq!(a.begun, 7);
        assert_eq!(cookie_suffix(&a.state), &a.state[..16]);
    }

    #[test]
    fn a_login_leads_back_to_where_it_began_or_else_to_the_root() {
        assert_eq!(Transaction::new("/a?b=/c", 7).expect("new").return_to, "/a?b=/c");
        assert_eq!(Transaction::new("//evil.test", 7).expect("new").return_to, "/");
    }

    #[test]
    fn a_transaction_is_read_as_it_was_written_and_not_otherwise() {
        let written = transaction().to_json();
        let text = std::str::from_utf8(&written).expect("UTF-8");
        let read = Transaction::parse(&written).expect("read");
        assert_eq!(read.to_json(), written);
        assert_eq!((read.state.as_str(), read.return_to.as_str(), read.begun), (STATE, "/a?b=c", 1_800_000_000));
        for (from, to) in [
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":\"1\""),
            ("\"v\":1", "\"v\":1.0"),
            ("\"v\":1,", ""),
            ("\"v\":1", "\"v\":1,\"x\":1"),
            ("\"v\":1", "\"v\":1,\"v\":1"),
            ("\"nonce\"", "\"Nonce\""),
            (STATE, ""),
            (STATE, &STATE[1..]),
            (STATE, &STATE.replace("5v0", "5v1")),
            ("/a?b=c", "//evil.test"),
            ("/a?b=c", "https://evil.test/"),
            ("1800000000", "\"1800000000\""),
            ("1800000000", "1.5"),
            ("1800000000", "null"),
            ("}", "}x"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            assert!(Transaction::parse(changed.as_bytes()).is_none(), "{from} {to}");
        }
        for end in 0..written.len() {
            assert!(Transaction::parse(&written[..end]).is_none());
        }
        assert!(
            Transaction::parse(text.replace(STATE, "B4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0").as_bytes()).is_some()
        );
    }

    #[test]
    fn rfc9700_4_11_a_nobody_is_sent_back_to_another_host() {
        for target in ["/", "/a", "/a/b?c=d&e=f", "/?", "/~a/%20b;v=1,2!$&'()*+@:", "/a?u=https://b.test/"] {
            assert_eq!(return_to(target), Some(target));
        }
        for target in [
            "",
            "a",
            "evil.test",
            "?a",
            "#a",
            ".//evil.test",
            "https://evil.test",
            "HTTPS://evil.test/",
            "https:/evil.test",
            "https:evil.test",
            "javascript:alert(1)",
            "data:text/html,x",
            "//evil.test",
            "//evil.test/a",
            "///evil.test",
            "////evil.test",
            "//own.test@evil.test",
            "//evil.test:443/",
            "//",
            "/\\evil.test",
            "/\\/evil.test",
            "\\\\evil.test",
            "\\/evil.test",
            "/a\\b",
            "/a\\..\\..\\evil.test",
            "/\t/evil.test",
            "/\n/evil.test",
            "/\r\n/evil.test",
            "\t//evil.test",
            " //evil.test",
            "/ /evil.test",
            "/a b",
            "/a\r\nSet-Cookie: b=c",
            "/a\0b",
            "/\0/evil.test",
            "/a\u{7f}",
            "/\u{85}/evil.test",
            "/\u{ff0f}evil.test",
            "/\u{2044}evil.test",
            "/\u{3002}evil.test",
            "/\u{e4}",
            "/\u{feff}/evil.test",
            "/a#//evil.test",
            "/#",
            "@evil.test",
            ":443/",
            ".evil.test/",
        ] {
            assert_eq!(return_to(target), None, "{target:?}");
        }
    }

    /// These stay on our host, since a browser looks for the host before it decodes and before it removes dots (URL Standard).
    #[test]
    fn what_only_looks_like_another_host_is_a_path_of_ours() {
        for target in [
            "/%2fevil.test",
            "/%2F%2Fevil.test",
            "/%5cevil.test",
            "/%5c%5cevil.test",
            "/%09/evil.test",
            "/%0d%0aSet-Cookie:%20a=b",
            "/%00",
            "/.//evil.test",
            "/..//evil.test",
            "/a/..//evil.test",
            "/;//evil.test",
            "/@evil.test",
            "/:80@evil.test",
            "/a//evil.test",
            "/?//evil.test",
            "/?return_to=https://evil.test",
            "/https://evil.test",
            "/javascript:alert(1)",
            "/%",
            "/%zz",
            "/\"><script>",
        ] {
            assert_eq!(return_to(target), Some(target), "{target:?}");
            let location = format!("https://own.test{target}");
            assert_eq!(&location["https://".len()..][.."own.test/".len()], "own.test/");
        }
    }

    #[test]
    fn a_place_to_return_to_has_at_most_2048_bytes() {
        let long = format!("/{}", "a".repeat(2047));
        assert_eq!(return_to(&long), Some(long.as_str()));
        assert_eq!(return_to(&format!("{long}a")), None);
    }

    #[test]
    fn oidc_3_1_2_1_a_the_request_has_each_parameter_once() {
        let extra = pairs(&[
            ("prompt", "login"),
            ("state", "evil"),
            ("code_challenge_method", "plain"),
            ("resource", "https://a.test"),
            ("resource", "https://b.test"),
        ]);
        let t = transaction();
        assert_eq!(
            parameters(&t, "app", "https://own.test/cb", "openid x", &extra),
            pairs(&[
                ("response_type", "code"),
                ("client_id", "app"),
                ("redirect_uri", "https://own.test/cb"),
                ("scope", "openid x"),
                ("state", STATE),
                ("nonce", &t.nonce),
                ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
                ("code_challenge_method", "S256"),
                ("prompt", "login"),
                ("resource", "https://a.test"),
                ("resource", "https://b.test"),
            ])
        );
    }

    #[test]
    fn rfc6749_3_1_b_the_query_of_the_endpoint_stays() {
        let parameters = pairs(&[("a", "x y&z=1"), ("b", "https://own.test/\u{e4}?#")]);
        let encoded = "a=x+y%26z%3D1&b=https%3A%2F%2Fown.test%2F%C3%A4%3F%23";
        for (endpoint, before) in [
            ("https://as.test/auth", "https://as.test/auth?"),
            ("https://as.test", "https://as.test?"),
            ("https://as.test/auth?", "https://as.test/auth?"),
            ("https://as.test/auth?t=1", "https://as.test/auth?t=1&"),
            ("https://as.test/auth?t=1&", "https://as.test/auth?t=1&"),
            ("https://as.test/auth?t=a%20b?c", "https://as.test/auth?t=a%20b?c&"),
            ("https://as.test/auth#x", "https://as.test/auth?"),
            ("https://as.test/auth?t=1#x?", "https://as.test/auth?t=1&"),
        ] {
            assert_eq!(url(endpoint, &parameters), format!("{before}{encoded}"));
        }
    }

    fn code(code: &str) -> Returned {
        Returned::Code { code: code.into() }
    }

    fn read(query: &str) -> Result<Callback, &'static str> {
        callback(query.as_bytes())
    }

    #[test]
    fn rfc6749_4_1_2_b_a_response_has_state_and_either_code_or_error() {
        for (query, iss, returned) in [
            (format!("code=x&state={STATE}"), None, code("x")),
            (format!("state={STATE}&code=a%2Bb%2F%3D~!&session_state=1&x"), None, code("a+b/=~!")),
            (format!("%63od%65=x&%73tate={STATE}"), None, code("x")),
            (format!("code=x&state={STATE}&iss=https%3A%2F%2Fas.test"), Some("https://as.test"), code("x")),
            (format!("code=x&state={STATE}&iss="), Some(""), code("x")),
            (format!("&&code=x&&state={STATE}&"), None, code("x")),
            (format!("code=x&state={STATE}&Code=y&STATE=z&code[]=w&=v"), None, code("x")),
            (
                format!("error=access_denied&error_description=a%0d%0ab%09c&state={STATE}"),
                None,
                Returned::Error { error: "access_denied".into() },
            ),
        ] {
            let expected = Callback { state: STATE.into(), iss: iss.map(str::to_owned), returned };
            assert_eq!(read(&query), Ok(expected), "{query}");
        }
        for (query, why) in [
            (String::new(), "there is no state"),
            ("code=x".into(), "there is no state"),
            (format!("state={STATE}"), "neither code nor error came"),
            (format!("code=x&error=access_denied&state={STATE}"), "both code and error came"),
            (format!("code=x&error=&state={STATE}"), "both code and error came"),
            (format!("code=&error=access_denied&state={STATE}"), "both code and error came"),
            (format!("code=x;state={STATE}"), "there is no state"),
            (format!("?code=x&state={STATE}"), "neither code nor error came"),
            (format!("code=x%26state={STATE}"), "there is no state"),
            (format!("response=eyJ&state={STATE}"), "neither code nor error came"),
        ] {
            assert_eq!(read(&query), Err(why), "{query}");
        }
    }

    #[test]
    fn rfc6749_3_1_a_a_repeated_parameter_refuses_however_it_is_spelt() {
        let good = format!("code=x&state={STATE}&iss=https://as.test");
        assert!(read(&good).is_ok());
        for (more, why) in [
            ("code=y", "code came twice"),
            ("code=x", "code came twice"),
            ("code=", "code came twice"),
            ("code", "code came twice"),
            ("c%6Fde=y", "code came twice"),
            ("%63%6f%64%65=y", "code came twice"),
            (&format!("state={STATE}"), "state came twice"),
            ("%73tate=y", "state came twice"),
            ("stat%65", "state came twice"),
            ("iss=https://as.test", "iss came twice"),
            ("%69ss=https://evil.test", "iss came twice"),
            ("error=a&error=b", "error came twice"),
            ("error=a&%65rror=b", "error came twice"),
        ] {
            assert_eq!(read(&format!("{good}&{more}")), Err(why), "{more}");
            assert_eq!(read(&format!("{more}&{good}")), Err(why), "{more}");
        }
    }

    #[test]
    fn control_characters_and_broken_utf_8_refuse_in_every_spelling() {
        let good = format!("code=x&state={STATE}&error_description=&y=");
        assert!(read(&good).is_ok());
        assert!(read(&format!("{good}%C3%A4\u{e4}")).is_ok());
        let why = Err("a parameter holds a control character or is not UTF-8");
        for bad in [
            "%00",
            "\0",
            "%0a",
            "\n",
            "%0D",
            "\t",
            "%09",
            "%1f",
            "%7F",
            "\u{7f}",
            "%c2%85",
            "%ff",
            "%c3",
            "%ED%A0%80",
            "%c0%ae",
        ] {
            assert_eq!(read(&format!("{good}{bad}")), why, "{bad:?}");
            assert_eq!(read(&format!("{bad}{good}")), why, "{bad:?}");
            assert_eq!(read(&good.replacen("code=", &format!("code{bad}="), 1)), why, "{bad:?}");
            assert_eq!(read(&good.replacen("code=", &format!("code={bad}"), 1)), why, "{bad:?}");
            let described = read(&good.replace("description=", &format!("description={bad}")));
            let lines = ["%0a", "\n", "%0D", "\t", "%09"].contains(&bad);
            assert_eq!(described.is_ok(), lines, "{bad:?}");
        }
        assert_eq!(callback(&[good.as_bytes(), b"\xff"].concat()), why);
    }

    #[test]
    fn code_state_iss_and_query_are_bounded() {
        let with = |code: &str, state: &str, iss: &str| read(&format!("code={code}&state={state}&iss={iss}"));
        assert!(with(&"x".repeat(4096), STATE, &"i".repeat(2048)).is_ok());
        let bad_code = "code is empty, too long, or not of visible characters";
        for code in ["", "+", "a+b", "a%20b", "%C3%A4", "\u{e4}", &"x".repeat(4097)] {
            assert_eq!(with(code, STATE, ""), Err(bad_code), "{code}");
        }
        let bad_state = "state is none of ours";
        for state in [
            "",
            &STATE[1..],
            &format!("{STATE}A"),
            &format!("{STATE}="),
            &format!("{STATE}%20"),
            &format!("%20{}", &STATE[1..]),
            &STATE.replace('L', "%2B"),
            &STATE.replace('L', "."),
        ] {
            assert_eq!(with("x", state, ""), Err(bad_state), "{state}");
        }
        assert_eq!(with("x", STATE, &"i".repeat(2049)), Err("iss is too long"));
        let filled = |len: usize| {
            let start = format!("code=x&state={STATE}&y=");
            format!("{start}{}", "y".repeat(len - start.len()))
        };
        assert!(read(&filled(8192)).is_ok());
        assert_eq!(read(&filled(8193)), Err("the query is longer than 8 KiB"));
    }

    #[test]
    fn an_error_code_is_shown_only_if_it_looks_like_one() {
        let error = |error: &str| match read(&format!("error={error}&state={STATE}")) {
            Ok(Callback { returned: Returned::Error { error }, .. }) => error,
            other => panic!("{other:?}"),
        };
        for code in ["access_denied", "login_required", "temporarily_unavailable", "x"] {
            assert_eq!(error(code), code);
        }
        for code in ["", "Access+Denied", "a-b", "a1", "<script>", "%22", "a%5Cb", "%C3%A4", "a.b"] {
            assert_eq!(error(code), "unknown", "{code}");
        }
        assert_eq!(error(&"a".repeat(65)), "a".repeat(64));
    }

    #[test]
    fn rfc9207_2_4_a_and_b_iss_is_compared_if_it_is_there_and_must_be_if_it_was_promised() {
        const ISSUER: &str = "https://as.test";
        for (iss, promised, good) in [
            (Some(ISSUER), true, true),
            (Some(ISSUER), false, true),
            (None, false, true),
            (None, true, false),
            (Some(""), true, false),
            (Some(""), false, false),
            (Some("https://as.test/"), true, false),
            (Some("https://AS.test"), false, false),
            (Some("https://as.test:443"), false, false),
            (Some("https://as%2Etest"), false, false),
            (Some("https://evil.test"), false, false),
            (Some("https://evil.test"), true, false),
        ] {
            assert_eq!(check_iss(iss, ISSUER, promised), good, "{iss:?} {promised}");
        }
    }
}
