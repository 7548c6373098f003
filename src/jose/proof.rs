//! DPoP proofs, made as a client makes them (RFC 9449 §4.2): for the command line, and for tests. The gateway itself only checks them.

use super::b64;
use super::json::{self, Value};
use crate::crypto::sign::{PublicNumbers, SigningKey};
use crate::crypto::{self, Algorithm};

/// Octets of `jti`.
const JTI_LEN: usize = 16;

/// What a proof is for.
#[derive(Clone, Copy)]
pub struct Purpose<'a> {
    /// `htm`
    pub method: &'a str,
    /// The URL of the request; `htu` is it without query and fragment
    pub url: &'a str,
    /// The access token that goes with it; none at a token endpoint
    pub token: Option<&'a [u8]>,
    /// `nonce`, as the server gave it
    pub nonce: Option<&'a str>,
    /// `iat`, Unix seconds
    pub now: i64,
}

/// A client's private key.
pub struct ProofKey {
    key: SigningKey,
    /// `jwk` of its proofs
    public: String,
}

impl ProofKey {
    /// A private JWK, or PEM: PKCS#8, PKCS#1 or SEC 1.
    ///
    /// # Errors
    /// What is wrong with it. Nothing of the key is in the message.
    pub fn parse(text: &[u8]) -> Result<ProofKey, String> {
        let key = if text.trim_ascii_start().starts_with(b"{") {
            let jwk = json::parse_object(text.trim_ascii()).map_err(|_| "the JWK is not strict JSON".to_owned())?;
            SigningKey::from_jwk(&jwk)
        } else {
            SigningKey::from_pem(std::str::from_utf8(text).map_err(|_| "neither a JWK nor PEM".to_owned())?)
        };
        let key = key.map_err(|e| e.to_string())?;
        let public = jwk(&key).ok_or("the public half of the key cannot be had")?;
        Ok(ProofKey { key, public })
    }

    /// The public half, as a JWK.
    pub fn jwk(&self) -> &str {
        &self.public
    }

    /// A fresh proof, by this algorithm or by the key's own.
    ///
    /// # Errors
    /// The key makes no signatures of the algorithm, or the system has no randomness.
    pub fn prove(&self, purpose: &Purpose<'_>, algorithm: Option<Algorithm>) -> Result<String, String> {
        let algorithm = algorithm.unwrap_or_else(|| self.key.default_algorithm());
        if !self.key.supports(algorithm) {
            return Err(format!("the key makes no signatures of {}", algorithm.name()));
        }
        let jti = b64::encode(&crypto::random::<JTI_LEN>().ok_or("the system has no randomness")?);
        let ath = purpose.token.map(|token| b64::encode(&crypto::sha256(token)));
        let htu = purpose.url.split(['?', '#']).next().unwrap_or_default();
        let public = json::parse_object(self.public.as_bytes()).map_err(|e| e.to_string())?;
        let header = Value::object([
            ("typ", Value::text("dpop+jwt")),
            ("alg", Value::text(algorithm.name())),
            ("jwk", Value::Object(public)),
        ]);
        let mut claims = vec![
            ("jti", Value::text(&jti)),
            ("htm", Value::text(purpose.method)),
            ("htu", Value::text(htu)),
            ("iat", Value::Int(purpose.now)),
        ];
        claims.extend(ath.as_deref().map(|ath| ("ath", Value::text(ath))));
        claims.extend(purpose.nonce.map(|nonce| ("nonce", Value::text(nonce))));
        let part = |object: Value<'_>| b64::encode(object.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(Value::object(claims)));
        let signature = self.key.sign(algorithm, signed.as_bytes()).ok_or("the key failed")?;
        Ok(format!("{signed}.{}", b64::encode(&signature)))
    }
}

/// The public half, with no member that is not needed: not even a name, which would tell what else the key is used for.
fn jwk(key: &SigningKey) -> Option<String> {
    let numbers = key.public()?;
    let (kty, crv, numbers) = match &numbers {
        PublicNumbers::Rsa { n, e } => ("RSA", None, [Some(("n", n)), Some(("e", e))]),
        PublicNumbers::Ec { curve, x, y } => ("EC", Some(curve.name()), [Some(("x", x)), Some(("y", y))]),
        PublicNumbers::Ed25519 { x } => ("OKP", Some("Ed25519"), [Some(("x", x)), None]),
    };
    let numbers: Vec<(&'static str, String)> =
        numbers.into_iter().flatten().map(|(name, number)| (name, b64::encode(number))).collect();
    let members = [("kty", Value::text(kty))].into_iter().chain(crv.map(|crv| ("crv", Value::text(crv))));
    Some(Value::object(members.chain(numbers.iter().map(|(name, number)| (*name, Value::text(number))))).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::jwk;
    use crate::jose::jws::Compact;

    const TOKEN: &[u8] = b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

    macro_rules! keys {
        ($($name:literal),*) => {
            [$((
                include_bytes!(concat!("../../tests/common/keys/", $name, ".jwk")).as_slice(),
                include_bytes!(concat!("../../tests/common/keys/", $name, ".p8")).as_slice(),
            )),*]
        };
    }

    fn keys() -> Vec<(&'static [u8], &'static [u8])> {
        let mut keys = keys!["rsa", "p256", "p384", "ed25519"].to_vec();
        if cfg!(feature = "aws-lc") {
            keys.extend(keys!["p521"]);
        }
        keys
    }

    fn purpose<'a>() -> Purpose<'a> {
        Purpose { method: "GET", url: "https://api.test/a", token: Some(TOKEN), nonce: None, now: 1_800_000_000 }
    }

    fn header_and_claims(proof: &str) -> (serde_json::Value, serde_json::Value) {
        let parts = Compact::parts(proof.as_bytes()).expect("compact");
        let read = |part| serde_json::from_slice(&b64::decode(part).expect("base64url")).expect("JSON");
        (read(parts.header), read(parts.payload))
    }

    #[test]
    fn rfc9449_4_2_a_proof_holds_the_public_key_and_what_it_is_for() {
        for (private, der) in keys() {
            let key = ProofKey::parse(private).expect("key");
            let original: serde_json::Value = serde_json::from_slice(private).expect("JSON");
            let public: serde_json::Value = serde_json::from_str(key.jwk()).expect("JSON");
            for (name, value) in public.as_object().expect("object") {
                assert_eq!(value, &original[name], "{name}");
            }
            assert_eq!(jwk::thumbprint(key.jwk().as_bytes()).ok(), jwk::thumbprint(private).ok());
            // The same key in PEM has the same public half.
            let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
            assert_eq!(ProofKey::parse(pem.as_bytes()).expect("key").jwk(), key.jwk());

            let proof = key.prove(&purpose(), None).expect("proof");
            let (header, claims) = header_and_claims(&proof);
            assert_eq!((&header["typ"], &header["jwk"]), (&"dpop+jwt".into(), &public));
            let algorithm = Algorithm::from_name(header["alg"].as_str().expect("text")).expect("known");
            let object = json::parse_object(key.jwk().as_bytes()).expect("JSON");
            let (verifier, _) = jwk::of_proof(&object, algorithm).expect("a public key, and nothing private");
            let parts = Compact::parts(proof.as_bytes()).expect("compact");
            assert!(verifier.verify(algorithm, parts.signed, &b64::decode(parts.signature).expect("base64url")));
            assert_eq!((&claims["htm"], &claims["htu"]), (&"GET".into(), &"https://api.test/a".into()));
            assert_eq!(claims["iat"], 1_800_000_000);
            // RFC 9449 §4.3, the token of its examples
            assert_eq!(claims["ath"], "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
            assert_eq!(claims.get("nonce"), None);
        }
    }

    #[test]
    fn rfc9449_4_2_b_htu_has_no_query_and_a_nonce_is_repeated_as_it_came() {
        let (key, _) = keys()[1];
        let key = ProofKey::parse(key).expect("key");
        for url in ["https://api.test/a?b#c", "https://api.test/a#b?c", "https://api.test/a"] {
            let proof = key.prove(&Purpose { url, token: None, nonce: Some("n"), ..purpose() }, None).expect("proof");
            let (_, claims) = header_and_claims(&proof);
            assert_eq!((&claims["htu"], &claims["nonce"]), (&"https://api.test/a".into(), &"n".into()));
            assert_eq!(claims.get("ath"), None);
        }
        let jti = || header_and_claims(&key.prove(&purpose(), None).expect("proof")).1["jti"].clone();
        assert_ne!(jti(), jti());
    }

    #[test]
    fn an_algorithm_is_one_of_the_key() {
        let (rsa, _) = keys()[0];
        let rsa = ProofKey::parse(rsa).expect("key");
        for (algorithm, name) in [(None, "PS256"), (Some(Algorithm::Rs256), "RS256")] {
            let proof = rsa.prove(&purpose(), algorithm).expect("proof");
            assert_eq!(header_and_claims(&proof).0["alg"], name);
        }
        assert!(rsa.prove(&purpose(), Some(Algorithm::Es256)).is_err_and(|e| e.contains("ES256")));
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        let (key, _) = keys()[1];
        let public = ProofKey::parse(key).expect("key").public;
        for text in [b"".as_slice(), b"{", b"{}", b"\xff", public.as_bytes(), b"-----BEGIN PRIVATE KEY-----"] {
            assert!(ProofKey::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
