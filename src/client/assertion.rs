//! How a client says who it is without sending its secret: `private_key_jwt` and `client_secret_jwt` (RFC 7523 §2.2, §3;
//! OpenID Connect Core 1.0 §9).

use std::fmt;

use crate::crypto::sign::SigningKey;
use crate::crypto::{self, Algorithm, Secret};
use crate::jose::b64;
use crate::jose::json::Value;

/// Seconds that an assertion is valid. It is used at once; the rest is for the difference of two clocks.
const LIFETIME: i64 = 60;
/// Octets of `jti`.
const JTI_LEN: usize = 16;
/// Smallest secret, in octets: an HMAC key has at least the length of the hash (RFC 7518 §3.2).
const SECRET_MIN: usize = 32;

/// What signs a client's assertions.
pub(crate) enum Assertion {
    /// `private_key_jwt`
    Key(SigningKey, Algorithm),
    /// `client_secret_jwt`, by HS256
    Secret(Secret),
}

/// Why nothing can be asserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssertionError {
    /// The key does not make signatures of the algorithm.
    Algorithm,
    /// The secret is shorter than 32 octets.
    SecretTooShort,
}

impl fmt::Display for AssertionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AssertionError::Algorithm => "the key does not make signatures of this algorithm",
            AssertionError::SecretTooShort => "a client secret that signs assertions has at least 32 octets",
        })
    }
}

impl Assertion {
    /// By a private key; with its own algorithm where none is asked for.
    pub(crate) fn with_key(key: SigningKey, algorithm: Option<Algorithm>) -> Result<Assertion, AssertionError> {
        let algorithm = algorithm.unwrap_or_else(|| key.default_algorithm());
        if !key.supports(algorithm) {
            return Err(AssertionError::Algorithm);
        }
        Ok(Assertion::Key(key, algorithm))
    }

    /// By the client secret.
    pub(crate) fn with_secret(secret: Secret) -> Result<Assertion, AssertionError> {
        if secret.expose().len() < SECRET_MIN {
            return Err(AssertionError::SecretTooShort);
        }
        Ok(Assertion::Secret(secret))
    }

    /// A fresh assertion of `client_id`, for `audience` alone: the issuer identifier of the authorization server.
    ///
    /// None if the system has no randomness or the key fails.
    pub(crate) fn make(&self, client_id: &str, audience: &str, now: i64) -> Option<String> {
        let (name, kid) = match self {
            Assertion::Key(key, algorithm) => (algorithm.name(), key.kid()),
            Assertion::Secret(_) => ("HS256", None),
        };
        let mut header = vec![("alg", Value::text(name)), ("typ", Value::text("JWT"))];
        header.extend(kid.map(|kid| ("kid", Value::text(kid))));
        let jti = b64::encode(&crypto::random::<JTI_LEN>()?);
        let claims = [
            ("iss", Value::text(client_id)),
            ("sub", Value::text(client_id)),
            ("aud", Value::text(audience)),
            ("jti", Value::text(&jti)),
            ("iat", Value::Int(now)),
            ("exp", Value::Int(now.checked_add(LIFETIME)?)),
        ];
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = match self {
            Assertion::Key(key, algorithm) => key.sign(*algorithm, signed.as_bytes())?,
            Assertion::Secret(secret) => crypto::hmac_sha256(secret.expose(), signed.as_bytes()).to_vec(),
        };
        Some(format!("{signed}.{}", b64::encode(&signature)))
    }
}

/// An object as a part of the token.
fn part<'a>(members: impl IntoIterator<Item = (&'static str, Value<'a>)>) -> String {
    b64::encode(Value::object(members).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::json;
    use crate::jose::jwk::JwkSet;

    const NOW: i64 = 1_800_000_000;
    const ISSUER: &str = "https://as.test";
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const PRIVATE: &str = include_str!("../../tests/common/keys/p256.jwk");
    const PUBLIC: &str = r#"{"keys":[{"kty":"EC","crv":"P-256",
        "x":"MAJhA3VnbrPzsDlo1ddKNzgL8pD1dGWaV_rXw3qaIcI","y":"Om3Mlkv-AmKQRlsMu8cHFhF1Re88zWkoD6HrAVxdOAY"}]}"#;

    fn key(extra: &str) -> SigningKey {
        let text = PRIVATE.replacen('{', &format!("{{{extra}"), 1);
        SigningKey::from_jwk(&json::parse_object(text.as_bytes()).expect("JSON")).expect("key")
    }

    fn parts(token: &str) -> (String, String, Vec<u8>, String) {
        let (signed, signature) = token.rsplit_once('.').expect("dots");
        let (header, claims) = signed.split_once('.').expect("dots");
        let text = |part: &str| String::from_utf8(b64::decode(part.as_bytes()).expect("base64url")).expect("UTF-8");
        (text(header), text(claims), b64::decode(signature.as_bytes()).expect("base64url"), signed.to_owned())
    }

    #[test]
    fn rfc7523_3_a_the_claims_name_the_client_twice_and_one_audience() {
        let assertion = Assertion::with_key(key(r#""kid":"k1","#), None).expect("assertion");
        let token = assertion.make("app", ISSUER, NOW).expect("token");
        let (header, claims, signature, signed) = parts(&token);
        assert_eq!(header, r#"{"alg":"ES256","typ":"JWT","kid":"k1"}"#);
        let object = json::parse_object(claims.as_bytes()).expect("JSON");
        let jti = object.get("jti").and_then(Value::as_str).expect("jti");
        assert_eq!(b64::decode(jti.as_bytes()).expect("base64url").len(), 16);
        assert_eq!(
            claims,
            format!(
                r#"{{"iss":"app","sub":"app","aud":"https://as.test","jti":"{jti}","iat":1800000000,"exp":1800000060}}"#
            )
        );
        let (set, _) = JwkSet::parse(PUBLIC.as_bytes()).expect("set");
        let public = set.candidates(None, Algorithm::Es256).next().expect("key");
        assert!(public.verify(Algorithm::Es256, signed.as_bytes(), &signature));
    }

    #[test]
    fn rfc7523_3_b_each_assertion_has_its_own_jti() {
        let assertion = Assertion::with_secret(Secret::new(SECRET)).expect("assertion");
        let claims = || parts(&assertion.make("app", ISSUER, NOW).expect("token")).1;
        assert_ne!(claims(), claims());
    }

    #[test]
    fn a_client_secret_signs_by_hs256() {
        let assertion = Assertion::with_secret(Secret::new(SECRET)).expect("assertion");
        let (header, _, signature, signed) = parts(&assertion.make("app", ISSUER, NOW).expect("token"));
        assert_eq!(header, r#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!(signature, crypto::hmac_sha256(SECRET, signed.as_bytes()));
    }

    #[test]
    fn rfc7518_3_2_a_a_secret_below_256_bits_is_refused() {
        let refused = Assertion::with_secret(Secret::new(&SECRET[1..]));
        assert_eq!(refused.err(), Some(AssertionError::SecretTooShort));
    }

    #[test]
    fn an_algorithm_that_the_key_does_not_make_is_refused() {
        for algorithm in [Algorithm::Es384, Algorithm::Ps256, Algorithm::EdDsa] {
            let refused = Assertion::with_key(key(""), Some(algorithm));
            assert_eq!(refused.err(), Some(AssertionError::Algorithm));
            assert_eq!(Assertion::Key(key(""), algorithm).make("app", ISSUER, NOW), None);
        }
    }

    #[test]
    fn names_are_escaped() {
        let name = "a\",\"sub\":\"admin\\\n\u{e9}";
        let kid = r#""kid":"\",\"alg\":\"none","#;
        let assertion = Assertion::with_key(key(kid), None).expect("assertion");
        let (header, claims, ..) = parts(&assertion.make(name, name, NOW).expect("token"));
        let header = json::parse_object(header.as_bytes()).expect("JSON");
        assert_eq!(header.get("alg").and_then(Value::as_str), Some("ES256"));
        assert_eq!(header.get("kid").and_then(Value::as_str), Some(r#"","alg":"none"#));
        let claims = json::parse_object(claims.as_bytes()).expect("JSON");
        for claim in ["iss", "sub", "aud"] {
            assert_eq!(claims.get(claim).and_then(Value::as_str), Some(name));
        }
    }

    #[test]
    fn a_time_at_the_end_of_time_makes_nothing() {
        let assertion = Assertion::with_secret(Secret::new(SECRET)).expect("assertion");
        assert_eq!(assertion.make("app", ISSUER, i64::MAX), None);
    }
}
