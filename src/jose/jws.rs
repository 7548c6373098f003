//! The compact JWS (RFC 7515 §7.1): three parts, one strict header, one signature.

use std::sync::{Arc, Mutex};

use super::b64;
use super::json::{self, Object, Value};
use crate::crypto::Algorithm;
use crate::reason::Reason;

/// Largest token, in bytes; nginx's default header buffers hold no more.
pub(crate) const MAX_TOKEN: usize = 8 * 1024;
/// Longest `kid`: it is only ever an index into keys that are already loaded.
const MAX_KID: usize = 256;

/// The three parts of a token, still encoded.
#[derive(Clone, Copy)]
pub(crate) struct Compact<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8],
    /// What is signed: header, dot, payload.
    pub(crate) signed: &'a [u8],
}

impl<'a> Compact<'a> {
    /// Splits a token; the number of parts alone says what it is, never a header member.
    pub(crate) fn split(token: &'a [u8]) -> Result<Compact<'a>, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::TokenTooLarge);
        }
        Self::parts(token)
    }

    /// Whether a token has the three parts of a JWS. What is in them is not looked at.
    pub(crate) fn is_like(token: &[u8]) -> bool {
        memchr::memchr_iter(b'.', token).count() == 2
    }

    /// The same for a text whose size the caller has bounded.
    pub(crate) fn parts(token: &'a [u8]) -> Result<Compact<'a>, Reason> {
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second)) = (dots.next(), dots.next()) else {
            return Err(Reason::TokenNotJwt);
        };
        match dots.count() {
            0 => {}
            2 => return Err(Reason::TokenEncrypted),
            _ => return Err(Reason::TokenNotJwt),
        }
        let (Some((signed, signature)), Some((header, payload))) =
            (cut(token, second), token.get(..second).and_then(|t| cut(t, first)))
        else {
            return Err(Reason::TokenNotJwt);
        };
        Ok(Compact { header, payload, signature, signed })
    }
}

/// The parts before and behind the octet at `at`.
fn cut(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let (head, tail) = text.split_at_checked(at)?;
    Some((head, tail.split_first()?.1))
}

/// What `typ` says, as media type (RFC 7515 §4.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Absent,
    /// `at+jwt`, `application/at+jwt` (RFC 9068 §2.1)
    AccessToken,
    /// `JWT`
    Jwt,
    /// `token-introspection+jwt` (RFC 9701 §5): never an access token
    Introspection,
    /// `dpop+jwt` (RFC 9449 §4.2): never an access token
    Proof,
    Other,
}

/// A header that may be acted on.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<Box<str>>,
    pub(crate) typ: Type,
}

impl Header {
    /// Parses an encoded header. Members that this does not name change nothing: a key or a URL in a token is never used (RFC 8725 §3.10).
    pub(crate) fn parse(encoded: &[u8]) -> Result<Header, Reason> {
        let text = b64::decode(encoded).ok_or(Reason::TokenNotJwt)?;
        let header = json::parse_object(&text).map_err(|_| Reason::HeaderMalformed)?;
        if Header::is_critical(&header) {
            return Err(Reason::HeaderCritical);
        }
        if Header::is_nested(&header) {
            return Err(Reason::TokenNested);
        }
        let name = text_of(&header, "alg")?.ok_or(Reason::HeaderMalformed)?;
        let algorithm = Algorithm::from_name(name).ok_or(Reason::AlgorithmRefused)?;
        let kid = text_of(&header, "kid")?;
        if kid.is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(Reason::HeaderMalformed);
        }
        Ok(Header { algorithm, kid: kid.map(Into::into), typ: Type::of(text_of(&header, "typ")?) })
    }

    /// Nothing critical is understood (RFC 7515 §4.1.11). `b64` without `crit` must be ignored by RFC 7797 §6, but a sender who sets it to
    /// false means a payload that is not what we would read.
    fn is_critical(header: &Object<'_>) -> bool {
        header.get("crit").is_some() || header.get("b64").is_some_and(|v| *v != Value::Bool(true))
    }

    /// A JWT inside (RFC 7519 §5.2) would be another token than the one checked.
    fn is_nested(header: &Object<'_>) -> bool {
        header.get("cty").is_some()
    }

    /// Whether the payload is what it seems to be.
    pub(crate) fn is_plain(header: &Object<'_>) -> bool {
        !Self::is_critical(header) && !Self::is_nested(header)
    }
}

/// Headers of tokens whose signature was right. An issuer writes the same few again and again.
///
/// Only ever tried, never waited for: who finds it taken parses.
#[derive(Default)]
pub(crate) struct HeaderMemo(Mutex<Vec<RememberedHeader>>);

/// The encoded header, and what it says.
type RememberedHeader = (Box<[u8]>, Arc<Header>);

impl HeaderMemo {
    /// As many as an issuer has keys in use.
    const ENTRIES: usize = 8;

    /// The header, remembered or parsed.
    pub(crate) fn parse(&self, encoded: &[u8]) -> Result<Arc<Header>, Reason> {
        let remembered = self
            .0
            .try_lock()
            .ok()
            .and_then(|memo| memo.iter().find(|(own, _)| **own == *encoded).map(|(_, header)| Arc::clone(header)));
        match remembered {
            Some(header) => Ok(header),
            None => Header::parse(encoded).map(Arc::new),
        }
    }

    /// Remembers the header of a verified token, in place of the one that came longest ago.
    pub(crate) fn remember(&self, encoded: &[u8], header: &Arc<Header>) {
        if let Ok(mut memo) = self.0.try_lock()
            && memo.iter().all(|(own, _)| **own != *encoded)
        {
            if memo.len() >= Self::ENTRIES {
                memo.remove(0);
            }
            memo.push((encoded.into(), Arc::clone(header)));
        }
    }
}

impl Type {
    pub(crate) fn of(typ: Option<&str>) -> Type {
        let Some(typ) = typ else { return Type::Absent };
        // Media types are compared without case, and `application/` may be left out.
        let name = match typ.split_at_checked(12) {
            Some((prefix, name)) if prefix.eq_ignore_ascii_case("application/") => name,
            _ => typ,
        };
        if name.eq_ignore_ascii_case("at+jwt") {
            Type::AccessToken
        } else if name.eq_ignore_ascii_case("JWT") {
            Type::Jwt
        } else if name.eq_ignore_ascii_case("token-introspection+jwt") {
            Type::Introspection
        } else if name.eq_ignore_ascii_case("dpop+jwt") {
            Type::Proof
        } else {
            Type::Other
        }
    }
}

fn text_of<'v>(header: &'v Object<'_>, name: &str) -> Result<Option<&'v str>, Reason> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::Str(s)) => Ok(Some(s)),
        Some(_) => Err(Reason::HeaderMalformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Header, Reason> {
        Header::parse(b64::encode(text.as_bytes()).as_bytes())
    }

    #[test]
    fn rfc7515_5_2_a_a_compact_jws_has_exactly_two_dots() {
        assert!(Compact::split(b"a.b.c").is_ok());
        for (token, reason) in [
            ("", Reason::TokenNotJwt),
            ("a", Reason::TokenNotJwt),
            ("a.b", Reason::TokenNotJwt),
            ("a.b.c.d", Reason::TokenNotJwt),
            ("a.b.c.d.e", Reason::TokenEncrypted),
            ("a.b.c.d.e.f", Reason::TokenNotJwt),
            ("{\"payload\":\"x\"}", Reason::TokenNotJwt),
        ] {
            assert_eq!(Compact::split(token.as_bytes()).err(), Some(reason), "{token}");
        }
    }

    #[test]
    fn a_token_has_at_most_8_kib() {
        let token = |n: usize| [&vec![b'a'; n - 4][..], b".b.c"].concat();
        assert!(Compact::split(&token(MAX_TOKEN)).is_ok());
        assert_eq!(Compact::split(&token(MAX_TOKEN + 1)).err(), Some(Reason::TokenTooLarge));
    }

    #[test]
    fn rfc7515_4_1_11_a_any_crit_refuses() {
        assert!(header(r#"{"alg":"ES256"}"#).is_ok());
        for crit in
            [r#""crit":[]"#, r#""crit":["exp"]"#, r#""crit":"x""#, r#""crit":null"#, r#""b64":false"#, r#""b64":null"#]
        {
            assert_eq!(header(&format!(r#"{{"alg":"ES256",{crit}}}"#)).err(), Some(Reason::HeaderCritical), "{crit}");
        }
        assert!(header(r#"{"alg":"ES256","b64":true}"#).is_ok());
    }

    #[test]
    fn rfc7518_3_6_a_none_hmac_and_unknown_algorithms_are_refused() {
        for alg in ["none", "None", "NONE", "HS256", "HS512", "es256", "ES256 ", "RSA-OAEP", "dir", ""] {
            assert_eq!(header(&format!(r#"{{"alg":"{alg}"}}"#)).err(), Some(Reason::AlgorithmRefused), "{alg}");
        }
        for text in [
            "{}",
            r#"{"alg":null}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","typ":1}"#,
            "[]",
            "x",
        ] {
            assert_eq!(header(text).err(), Some(Reason::HeaderMalformed), "{text}");
        }
    }

    #[test]
    fn rfc7515_4_1_9_a_typ_is_a_media_type() {
        let typ = |typ: &str| header(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#)).map(|h| h.typ);
        for text in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
            assert_eq!(typ(text), Ok(Type::AccessToken), "{text}");
        }
        assert_eq!(typ("JWT"), Ok(Type::Jwt));
        assert_eq!(typ("DPOP+jwt"), Ok(Type::Proof));
        for text in ["at+jwt ", "text/at+jwt", "", "application/", "application/application/at+jwt"] {
            assert_eq!(typ(text), Ok(Type::Other), "{text}");
        }
    }

    #[test]
    fn rfc7519_5_2_a_a_nested_token_is_refused() {
        assert_eq!(header(r#"{"alg":"ES256","cty":"JWT"}"#).err(), Some(Reason::TokenNested));
    }

    #[test]
    fn members_that_point_to_keys_or_switch_the_kind_change_nothing() {
        let plain = header(r#"{"alg":"ES256","kid":"a"}"#).expect("valid");
        let decorated = header(r#"{"alg":"ES256","kid":"a","jwk":{},"jku":"https://x","x5u":"https://x","x5c":[],"enc":"A256GCM","zip":"DEF"}"#).expect("valid");
        assert_eq!(format!("{plain:?}"), format!("{decorated:?}"));
    }

    #[test]
    fn a_header_is_remembered_by_all_its_bytes_and_eight_at_the_most() {
        let encode = |kid: usize| b64::encode(format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#).as_bytes());
        let memo = HeaderMemo::default();
        for kid in 0..20 {
            let encoded = encode(kid);
            let first = memo.parse(encoded.as_bytes()).expect("valid");
            memo.remember(encoded.as_bytes(), &first);
            memo.remember(encoded.as_bytes(), &first);
            assert!(Arc::ptr_eq(&first, &memo.parse(encoded.as_bytes()).expect("valid")));
            assert_eq!(
                memo.parse(encode(kid + 1).as_bytes()).expect("valid").kid.as_deref(),
                Some(&*(kid + 1).to_string())
            );
            assert!(memo.parse(&encoded.as_bytes()[1..]).is_err());
        }
        assert_eq!(memo.0.lock().expect("free").len(), 8);
    }

    #[test]
    fn a_kid_is_bounded() {
        assert!(header(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(256))).is_ok());
        assert!(header(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(257))).is_err());
    }
}
