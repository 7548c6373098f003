//! JWK sets (RFC 7517): which keys can verify, found by `kid`, and why the others cannot. JWK thumbprints (RFC 7638).

use std::fmt;

use serde_json::value::RawValue;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key;

use super::b64;
use super::json::{self, JsonError, Object, Value};
use super::jws::{Compact, Header};
use crate::crypto::{self, Algorithm, Curve, KeyError, PublicKey};
use crate::reason::Reason;

/// Largest JWK set, in bytes of JSON.
pub const MAX_SET_BYTES: usize = 256 * 1024;
/// Most keys in a set: an authorization server has a handful, and each is prepared at load.
pub const MAX_KEYS: usize = 64;
/// Most keys that one token is tried with, where `kid` does not name a single one: each costs a signature check.
const MAX_CANDIDATES: usize = 4;
/// Members that only a private or symmetric key has (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a whole set is refused.
#[derive(Debug)]
pub enum JwkSetError {
    /// More than [`MAX_SET_BYTES`] bytes.
    TooLarge,
    /// Not strict JSON.
    Json(JsonError),
    /// No `keys` array.
    NoKeys,
    /// More than [`MAX_KEYS`] keys.
    TooManyKeys,
    /// No key of the set can verify; the reason of each is given.
    NoUsableKey(Vec<SkippedKey>),
}

impl fmt::Display for JwkSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JwkSetError::TooLarge => write!(f, "the JWK set is larger than {MAX_SET_BYTES} bytes"),
            JwkSetError::Json(e) => write!(f, "the JWK set is refused: {e}"),
            JwkSetError::NoKeys => f.write_str("a JWK set is an object with an array \"keys\""),
            JwkSetError::TooManyKeys => {
                write!(f, "the JWK set has more than {MAX_KEYS} keys")
            }
            JwkSetError::NoUsableKey(skipped) => {
                f.write_str("the JWK set has no usable key")?;
                for key in skipped {
                    write!(f, "; {key}")?;
                }
                Ok(())
            }
        }
    }
}

/// A key of the set that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Place in the set, from 0.
    pub index: usize,
    /// `kid`, if there is one, printable characters only.
    pub kid: Option<String>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.index)?;
        if let Some(kid) = &self.kid {
            write!(f, " (kid \"{kid}\")")?;
        }
        write!(f, " skipped: {}", self.why)
    }
}

struct Key {
    kid: Option<Box<str>>,
    /// The only algorithm of the key, where the JWK names one.
    alg: Option<Algorithm>,
    public: PublicKey,
}

/// The usable keys of one issuer.
pub struct JwkSet {
    /// Sorted by `kid`; keys without one come first.
    keys: Vec<Key>,
}

impl JwkSet {
    /// Parses a set given as JSON, and says which keys it skipped.
    ///
    /// # Errors
    /// The set as a whole is unusable. A single bad key is no error while another is good (RFC 7517 §5).
    pub fn parse(text: &[u8]) -> Result<(JwkSet, Vec<SkippedKey>), JwkSetError> {
        if text.len() > MAX_SET_BYTES {
            return Err(JwkSetError::TooLarge);
        }
        // Each key is parsed on its own below, so that the limits of one document hold for one key.
        let items = keys_member(text)?;
        if items.len() > MAX_KEYS {
            return Err(JwkSetError::TooManyKeys);
        }
        let mut keys = Vec::with_capacity(items.len());
        let mut skipped = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let parsed = json::parse_object(item.get().as_bytes());
            let kid = parsed
                .as_ref()
                .ok()
                .and_then(|jwk| jwk.get("kid")?.as_str())
                .map(|kid| kid.chars().filter(|c| c.is_ascii_graphic()).take(64).collect());
            match parsed.map_err(|e| e.to_string()).and_then(|jwk| parse(&jwk)) {
                Ok((key, _)) => keys.push(key),
                Err(why) => skipped.push(SkippedKey { index, kid, why }),
            }
        }
        if keys.is_empty() {
            return Err(JwkSetError::NoUsableKey(skipped));
        }
        keys.sort_by(|a, b| a.kid.cmp(&b.kid));
        Ok((JwkSet { keys }, skipped))
    }

    /// Checks the signature of a JWS with the keys that may have made it.
    pub(crate) fn verify(&self, parts: &Compact<'_>, header: &Header) -> Result<(), Reason> {
        let signature = b64::decode(parts.signature).ok_or(Reason::TokenNotJwt)?;
        let mut known = false;
        for key in self.candidates(header.kid.as_deref(), header.algorithm) {
            known = true;
            if key.verify(header.algorithm, parts.signed, &signature) {
                return Ok(());
            }
        }
        Err(if known { Reason::SignatureInvalid } else { Reason::KeyUnknown })
    }

    /// The keys that may have made a signature of `algorithm`: those named `kid`, or all where the token names none.
    /// Empty also where there are more than can be tried.
    pub(crate) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &PublicKey> {
        let named = match kid {
            None => self.keys.as_slice(),
            Some(kid) => {
                let start = self.keys.partition_point(|k| k.kid.as_deref() < Some(kid));
                let end = self.keys.partition_point(|k| k.kid.as_deref() <= Some(kid));
                self.keys.get(start..end).unwrap_or_default()
            }
        };
        let usable = move |key: &&Key| key.alg.is_none_or(|alg| alg == algorithm) && key.public.supports(algorithm);
        let tried = if named.iter().filter(usable).count() > MAX_CANDIDATES { &[] } else { named };
        tried.iter().filter(usable).map(|key| &key.public)
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never true: a set without a usable key does not parse.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A hash of a set that does not depend on the order of its keys.
pub(crate) fn fingerprint(text: &[u8]) -> [u8; 32] {
    let Ok(mut keys) = keys_member(text).map(|keys| keys.iter().map(|key| key.get()).collect::<Vec<_>>()) else {
        return crypto::sha256(text);
    };
    keys.sort_unstable();
    // What lies between two keys is in no JSON text.
    crypto::sha256(keys.join("\0").as_bytes())
}

/// The elements of the one `keys` array, each as text.
fn keys_member(text: &[u8]) -> Result<Vec<&RawValue>, JwkSetError> {
    let members = json::members(text).map_err(JwkSetError::Json)?;
    let keys = members.iter().find(|(name, _)| name == "keys");
    keys.and_then(|(_, keys)| serde_json::from_str(keys.get()).ok()).ok_or(JwkSetError::NoKeys)
}

fn parse(jwk: &Object<'_>) -> Result<(Key, Parameters), String> {
    check_public(jwk)?;
    let text = |name: &str| match jwk.get(name) {
        None => Ok(None),
        Some(Value::Str(s)) => Ok(Some(s.as_ref())),
        Some(other) => Err(format!("\"{name}\" must be a string, not {}", other.kind())),
    };
    if text("use")?.is_some_and(|u| u != "sig") {
        return Err("\"use\" is not \"sig\"".into());
    }
    if let Some(ops) = jwk.get("key_ops") {
        let verify = ops.as_array().is_some_and(|ops| ops.iter().any(|op| op.as_str() == Some("verify")));
        if !verify {
            return Err("\"key_ops\" has no \"verify\"".into());
        }
    }
    let alg = match text("alg")? {
        None => None,
        Some(name) => Some(
            Algorithm::from_name(name)
                .ok_or_else(|| "\"alg\" is not a signature algorithm of this build".to_owned())?,
        ),
    };
    let parameters = Parameters::of(jwk)?;
    let public = parameters.public_key().map_err(|e| e.to_string())?;
    if alg.is_some_and(|alg| !public.supports(alg)) {
        return Err("\"alg\" does not fit the key".into());
    }
    if let Some(x5c) = jwk.get("x5c")
        && !parameters.is_key_of(x5c)
    {
        // RFC 7517 §4.7: the key in the first certificate MUST match.
        return Err("the first certificate of \"x5c\" does not hold this key".into());
    }
    let kid = text("kid")?.map(Into::into);
    Ok((Key { kid, alg, public }, parameters))
}

/// The members that make a public key what it is (RFC 7638 §3.2), decoded.
enum Parameters {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
}

impl Parameters {
    fn of(jwk: &Object<'_>) -> Result<Parameters, String> {
        let text = |name: &str| {
            jwk.get(name).and_then(Value::as_str).ok_or_else(|| format!("\"{name}\" is missing or not a string"))
        };
        let bytes = |name: &str| {
            b64::decode(text(name)?.as_bytes()).ok_or_else(|| format!("\"{name}\" is not canonical base64url"))
        };
        let unsupported = |crv: &str| -> String {
            let crv: String = crv.chars().filter(char::is_ascii_graphic).take(16).collect();
            format!("the curve \"{crv}\" is not supported")
        };
        match text("kty")? {
            "RSA" => Ok(Parameters::Rsa { n: bytes("n")?, e: bytes("e")? }),
            "EC" => {
                let crv = text("crv")?;
                Ok(Parameters::Ec {
                    curve: Curve::from_name(crv).ok_or_else(|| unsupported(crv))?,
                    x: bytes("x")?,
                    y: bytes("y")?,
                })
            }
            "OKP" => match text("crv")? {
                "Ed25519" => Ok(Parameters::Ed25519 { x: bytes("x")? }),
                crv => Err(unsupported(crv)),
            },
            "oct" => Err("a symmetric key".into()),
            _ => Err("\"kty\" is not RSA, EC or OKP".into()),
        }
    }

    fn public_key(&self) -> Result<PublicKey, KeyError> {
        match self {
            Parameters::Rsa { n, e } => PublicKey::rsa(n, e),
            Parameters::Ec { curve, x, y, .. } => PublicKey::ec(*curve, x, y),
            Parameters::Ed25519 { x } => PublicKey::ed25519(x),
        }
    }

    fn is_key_of(&self, x5c: &Value<'_>) -> bool {
        use base64::Engine as _;
        let first = x5c.as_array().and_then(|chain| chain.first()?.as_str());
        let Some(der) = first.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok()) else {
            return false;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
            return false;
        };
        let spki = certificate.public_key();
        match (self, spki.parsed()) {
            (Parameters::Rsa { n, e }, Ok(public_key::PublicKey::RSA(key))) => {
                crypto::strip_zeros(key.modulus) == crypto::strip_zeros(n)
                    && crypto::strip_zeros(key.exponent) == crypto::strip_zeros(e)
            }
            (Parameters::Ec { x, y, .. }, Ok(public_key::PublicKey::EC(point))) => {
                point.data() == [&[4u8], x.as_slice(), y].concat()
            }
            (Parameters::Ed25519 { x }, _) => {
                // id-Ed25519 (RFC 8410 §3)
                spki.algorithm.algorithm.to_id_string() == "1.3.101.112"
                    && spki.subject_public_key.data.as_ref() == x.as_slice()
            }
            _ => false,
        }
    }
}

/// The JWK SHA-256 thumbprint (RFC 7638) of a public key given as JSON, as 43 characters of base64url.
///
/// # Errors
/// The text is not a usable public RSA, EC or Ed25519 key.
pub fn thumbprint(jwk: &[u8]) -> Result<String, String> {
    let object = json::parse_object(jwk).map_err(|e| e.to_string())?;
    let parameters = Parameters::of(&object)?;
    parameters.public_key().map_err(|e| e.to_string())?;
    Ok(b64::encode(&parameters.thumbprint()))
}

/// The key in the header of a proof, for one algorithm, and its thumbprint. What else is said of it (`use`, `key_ops`, `x5c`) is not looked at:
/// clients take `d` out of a private key and leave the rest.
pub(crate) fn of_proof(jwk: &Object<'_>, algorithm: Algorithm) -> Result<(PublicKey, [u8; 32]), String> {
    check_public(jwk)?;
    let parameters = Parameters::of(jwk)?;
    let public = parameters.public_key().map_err(|e| e.to_string())?;
    let alg = jwk.get("alg").map(|alg| alg.as_str().and_then(Algorithm::from_name));
    if alg.is_some_and(|alg| alg != Some(algorithm)) || !public.supports(algorithm) {
        return Err("the key is not one for \"alg\"".into());
    }
    Ok((public, parameters.thumbprint()))
}

fn check_public(jwk: &Object<'_>) -> Result<(), String> {
    match PRIVATE_MEMBERS.iter().find(|name| jwk.get(name).is_some()) {
        Some(name) => Err(format!("\"{name}\" belongs to a private or symmetric key")),
        None => Ok(()),
    }
}

impl Parameters {
    /// RFC 7638 §3: members in lexicographic order, values encoded anew: one key, one thumbprint.
    fn thumbprint(&self) -> [u8; 32] {
        let mut canonical = String::with_capacity(160);
        let mut put = |texts: &[&str], value: &[u8]| {
            texts.iter().for_each(|text| canonical.push_str(text));
            b64::encode_to(value, &mut canonical);
        };
        match self {
            Parameters::Rsa { n, e } => {
                put(&[r#"{"e":""#], crypto::strip_zeros(e));
                put(&[r#"","kty":"RSA","n":""#], crypto::strip_zeros(n));
            }
            Parameters::Ec { curve, x, y } => {
                put(&[r#"{"crv":""#, curve.name(), r#"","kty":"EC","x":""#], x);
                put(&[r#"","y":""#], y);
            }
            Parameters::Ed25519 { x } => put(&[r#"{"crv":"Ed25519","kty":"OKP","x":""#], x),
        }
        canonical.push_str(r#""}"#);
        crypto::sha256(canonical.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn rsa(extra: &str) -> String {
        format!(r#"{{"kty":"RSA","e":"AQAB","n":"{RSA_N}"{extra}}}"#)
    }

    fn set(keys: &[String]) -> Result<(JwkSet, Vec<SkippedKey>), JwkSetError> {
        JwkSet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
    }

    #[test]
    fn rfc7638_3_a_the_examples_of_rfc7638_and_rfc8037() {
        let rsa = rsa(r#","alg":"RS256","kid":"2011-04-29""#);
        assert_eq!(thumbprint(rsa.as_bytes()).as_deref(), Ok("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
        let ed = format!(r#"{{"x":"{ED_X}","crv":"Ed25519","kty":"OKP"}}"#);
        assert_eq!(thumbprint(ed.as_bytes()).as_deref(), Ok("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
    }

    #[test]
    fn rfc7517_5_b_a_bad_key_is_skipped_with_its_reason_and_the_good_one_stays() {
        for (bad, why) in [
            (rsa(r#","use":"enc""#), "use"),
            (rsa(r#","key_ops":["sign"]"#), "key_ops"),
            (rsa(r#","key_ops":"verify""#), "key_ops"),
            (rsa(r#","alg":"ES256""#), "alg"),
            (rsa(r#","alg":"HS256""#), "alg"),
            (rsa(r#","alg":"RSA-OAEP""#), "alg"),
            (rsa(r#","kid":7"#), "kid"),
            (rsa(r#","kty":"RSA""#), "twice"),
            (rsa(r#","x5c":["AAAA"]"#), "x5c"),
            (r#"{"kty":"oct","k":"AAAA"}"#.to_owned(), "symmetric"),
            (r#"{"kty":"oct"}"#.to_owned(), "symmetric"),
            (r#"{"kty":"XYZ"}"#.to_owned(), "kty"),
            (r#"{"kty":"OKP","crv":"X25519","x":"AAAA"}"#.to_owned(), "curve"),
            (r#"{"kty":"EC","crv":"secp256k1","x":"AAAA","y":"AAAA"}"#.to_owned(), "curve"),
            (r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#.to_owned(), "coordinate"),
            (r#"{"kty":"RSA","e":"AQAB","n":"AQAB"}"#.to_owned(), "modulus"),
            (r#"{"kty":"RSA","e":"AQAB","n":"AQAB="}"#.to_owned(), "base64url"),
            ("7".to_owned(), "object"),
        ] {
            let (keys, skipped) = set(&[bad.clone(), rsa(r#","kid":"good""#)]).expect("one is good");
            assert_eq!(keys.len(), 1);
            assert_eq!(skipped.len(), 1, "{bad}");
            assert!(skipped[0].to_string().contains(why), "{bad}: {}", skipped[0]);
            assert!(matches!(set(&[bad]), Err(JwkSetError::NoUsableKey(_))));
        }
    }

    #[test]
    fn rfc7517_5_c_a_key_with_any_private_member_is_skipped() {
        for name in PRIVATE_MEMBERS {
            for value in ["\"AAAA\"", "null", "\"\""] {
                let key = rsa(&format!(r#","{name}":{value}"#));
                assert!(matches!(set(&[key]), Err(JwkSetError::NoUsableKey(_))), "{name} {value}");
            }
        }
    }

    #[test]
    fn a_set_has_at_most_64_keys_and_256_kib() {
        let keys = |n: usize| (0..n).map(|i| rsa(&format!(r#","kid":"{i}""#))).collect::<Vec<_>>();
        assert_eq!(set(&keys(64)).expect("64").0.len(), 64);
        assert!(matches!(set(&keys(65)), Err(JwkSetError::TooManyKeys)));
        let padding = " ".repeat(MAX_SET_BYTES + 1);
        assert!(matches!(JwkSet::parse(padding.as_bytes()), Err(JwkSetError::TooLarge)));
    }

    #[test]
    fn rfc7517_5_a_a_set_has_one_keys_array() {
        for text in ["{}", "{\"keys\":{}}", "{\"keys\":null}"] {
            assert!(matches!(JwkSet::parse(text.as_bytes()), Err(JwkSetError::NoKeys)), "{text}");
        }
        for text in ["", "[]", "null", "{\"keys\":[],\"keys\":[]}", "{\"keys\":[]} x"] {
            assert!(matches!(JwkSet::parse(text.as_bytes()), Err(JwkSetError::Json(_))), "{text}");
        }
    }

    #[test]
    fn a_kid_selects_and_the_algorithm_of_the_key_is_enforced() {
        let (keys, _) = set(&[
            rsa(r#","kid":"a","alg":"PS256""#),
            rsa(r#","kid":"b""#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{ED_X}"}}"#),
        ])
        .expect("valid");
        let count = |kid, alg| keys.candidates(kid, alg).count();
        assert_eq!(count(Some("a"), Algorithm::Ps256), 1);
        assert_eq!(count(Some("a"), Algorithm::Rs256), 0);
        assert_eq!(count(Some("b"), Algorithm::Rs256), 1);
        assert_eq!(count(Some("c"), Algorithm::Rs256), 0);
        assert_eq!(count(Some(""), Algorithm::EdDsa), 0);
        assert_eq!(count(None, Algorithm::EdDsa), 1);
        assert_eq!(count(None, Algorithm::Ps256), 2);
        assert_eq!(count(None, Algorithm::Es256), 0);
    }

    #[test]
    fn a_token_without_kid_is_not_tried_with_more_than_four_keys() {
        let keys =
            |n: usize| set(&(0..n).map(|i| rsa(&format!(r#","kid":"{i}""#))).collect::<Vec<_>>()).expect("valid").0;
        assert_eq!(keys(4).candidates(None, Algorithm::Rs256).count(), 4);
        assert_eq!(keys(5).candidates(None, Algorithm::Rs256).count(), 0);
    }
}
