//! Private keys as JWK (RFC 7517 §9.3 says how to keep them: not here).

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::json::{Object, Value};
use crate::crypto::sign::{self, RsaNumbers, SigningKey, SigningKeyError};
use crate::crypto::{Algorithm, Curve};

impl SigningKey {
    /// A private JWK: RSA with all its numbers (RFC 7518 §6.3.2), EC (§6.2.2) or Ed25519 (RFC 8037 §2). `kid` is kept, and `alg`
    /// is the only algorithm that the key then makes.
    pub(crate) fn from_jwk(jwk: &Object<'_>) -> Result<SigningKey, SigningKeyError> {
        if text(jwk, "use")?.is_some_and(|u| u != "sig") {
            return Err(SigningKeyError::Member("use", "is not \"sig\""));
        }
        if let Some(ops) = jwk.get("key_ops") {
            let sign = ops.as_array().is_some_and(|ops| ops.iter().any(|op| op.as_str() == Some("sign")));
            if !sign {
                return Err(SigningKeyError::Member("key_ops", "has no \"sign\""));
            }
        }
        let required = |name| text(jwk, name)?.ok_or(SigningKeyError::Member(name, "is missing"));
        let octets = |name| -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
            let not_canonical = SigningKeyError::Member(name, "is not canonical base64url");
            sign::decode(&URL_SAFE_NO_PAD, required(name)?.as_bytes()).ok_or(not_canonical)
        };
        let key = match required("kty")? {
            "RSA" => {
                if jwk.get("oth").is_some() {
                    return Err(SigningKeyError::Member("oth", "is of a key of more than two primes"));
                }
                SigningKey::rsa(&RsaNumbers {
                    n: &octets("n")?,
                    e: &octets("e")?,
                    d: &octets("d")?,
                    p: &octets("p")?,
                    q: &octets("q")?,
                    dp: &octets("dp")?,
                    dq: &octets("dq")?,
                    qi: &octets("qi")?,
                })?
            }
            "EC" => {
                let curve = Curve::from_name(required("crv")?).ok_or(SigningKeyError::Kind)?;
                SigningKey::ec(curve, &octets("d")?, &octets("x")?, &octets("y")?)?
            }
            "OKP" if required("crv")? == "Ed25519" => SigningKey::ed25519(&octets("d")?, &octets("x")?)?,
            _ => return Err(SigningKeyError::Kind),
        };
        let key = match text(jwk, "alg")? {
            None => key,
            Some(name) => Algorithm::from_name(name)
                .and_then(|algorithm| key.with_algorithm(algorithm))
                .ok_or(SigningKeyError::Member("alg", "does not fit the key"))?,
        };
        Ok(match text(jwk, "kid")? {
            None => key,
            Some(kid) => key.with_kid(kid),
        })
    }
}

fn text<'v>(jwk: &'v Object<'_>, name: &'static str) -> Result<Option<&'v str>, SigningKeyError> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::Str(s)) => Ok(Some(s)),
        Some(_) => Err(SigningKeyError::Member(name, "is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    const RSA: &str = include_str!("../../tests/common/keys/rsa.jwk");
    const P256: &str = include_str!("../../tests/common/keys/p256.jwk");
    const ED25519: &str = include_str!("../../tests/common/keys/ed25519.jwk");

    fn read(text: &str) -> Result<SigningKey, SigningKeyError> {
        SigningKey::from_jwk(&json::parse_object(text.as_bytes()).expect("JSON"))
    }

    fn with(jwk: &str, extra: &str) -> Result<SigningKey, SigningKeyError> {
        read(&jwk.replacen('{', &format!("{{{extra},"), 1))
    }

    #[test]
    fn rfc7517_4_a_kid_is_kept_and_alg_is_enforced() {
        let key = with(RSA, r#""kid":"k1","alg":"RS256""#).expect("key");
        assert_eq!(key.kid(), Some("k1"));
        assert_eq!(key.default_algorithm(), Algorithm::Rs256);
        assert!(key.sign(Algorithm::Rs256, b"message").is_some());
        assert!(!key.supports(Algorithm::Ps256));
        assert_eq!(key.sign(Algorithm::Ps256, b"message"), None);
        assert_eq!(with(ED25519, r#""alg":"Ed25519""#).map(|k| k.default_algorithm()).ok(), Some(Algorithm::EdDsa));
    }

    #[test]
    fn rfc7517_4_b_a_key_that_is_not_for_signatures_is_refused() {
        for (extra, name) in [
            (r#""use":"enc""#, "use"),
            (r#""use":1"#, "use"),
            (r#""key_ops":["verify"]"#, "key_ops"),
            (r#""key_ops":"sign""#, "key_ops"),
            (r#""alg":"ES384""#, "alg"),
            (r#""alg":"HS256""#, "alg"),
            (r#""alg":null"#, "alg"),
            (r#""kid":1"#, "kid"),
        ] {
            let refused = with(P256, extra).err();
            assert!(matches!(refused, Some(SigningKeyError::Member(n, _)) if n == name), "{extra}: {refused:?}");
        }
        for extra in [r#""use":"sig""#, r#""key_ops":["sign","verify"]"#, r#""alg":"ES256""#] {
            assert!(with(P256, extra).is_ok(), "{extra}");
        }
    }

    #[test]
    fn rfc7518_6_a_a_key_without_one_of_its_members_is_refused() {
        let remove = |jwk: &str, name: &str| {
            let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(jwk).expect("JSON");
            members.remove(name).expect("member");
            serde_json::Value::from(members).to_string()
        };
        for (jwk, names) in [
            (RSA, &["kty", "n", "e", "d", "p", "q", "dp", "dq", "qi"][..]),
            (P256, &["kty", "crv", "x", "y", "d"]),
            (ED25519, &["kty", "crv", "x", "d"]),
        ] {
            assert!(read(jwk).is_ok());
            for name in names {
                let refused = read(&remove(jwk, name)).err();
                assert_eq!(refused, Some(SigningKeyError::Member(name, "is missing")), "{name}");
            }
        }
    }

    #[test]
    fn rfc7518_6_3_2_7_a_a_key_of_three_primes_is_refused() {
        assert!(with(RSA, r#""oth":[]"#).is_err());
    }

    #[test]
    fn a_number_that_is_not_canonical_base64url_is_refused() {
        for bad in ["_-cDVufc=", "_-cDVufd", "_ cDVufc", "_+cDVufc", "/-cDVufc"] {
            let members = P256.replace(r#"_-cDVufc""#, &format!(r#"{bad}""#));
            assert_ne!(members, P256);
            let refused = read(&members).err();
            assert_eq!(refused, Some(SigningKeyError::Member("d", "is not canonical base64url")), "{bad}");
        }
    }
}
