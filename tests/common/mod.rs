//! Test keys, tokens of any shape, and configurations. The keys in `keys/` and the certificates `client-*.der` were made with openssl for
//! tests alone.
#![allow(dead_code)]

pub mod clients;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, KeyPair as _};
use serde_json::{Value, json};

/// The time of all tests.
pub const NOW: i64 = 1_800_000_000;
pub const ISSUER: &str = "https://as.test";
pub const AUDIENCE: &str = "https://api.test";
pub const CLIENT_A: &[u8] = include_bytes!("client-a.der");
pub const CLIENT_B: &[u8] = include_bytes!("client-b.der");

/// Algorithms that the tests can sign with.
pub const ALGORITHMS: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn x5t(der: &[u8]) -> String {
    b64(ring::digest::digest(&ring::digest::SHA256, der).as_ref())
}

pub fn pkcs8(alg: &str) -> &'static [u8] {
    match alg {
        "ES256" => include_bytes!("keys/p256.p8"),
        "ES384" => include_bytes!("keys/p384.p8"),
        "ES512" => include_bytes!("keys/p521.p8"),
        "EdDSA" => include_bytes!("keys/ed25519.p8"),
        _ => include_bytes!("keys/rsa.p8"),
    }
}

/// The raw JWS signature of `message` by the test key of an algorithm.
pub fn sign(alg: &str, message: &[u8]) -> Vec<u8> {
    sign_with(alg, pkcs8(alg), message)
}

/// Likewise by another key.
pub fn sign_with(alg: &str, key: &[u8], message: &[u8]) -> Vec<u8> {
    let rng = SystemRandom::new();
    let ecdsa = |algorithm| {
        let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, key, &rng).expect("key");
        pair.sign(&rng, message).expect("signature").as_ref().to_vec()
    };
    let rsa = |padding: &'static dyn signature::RsaEncoding| {
        let pair = signature::RsaKeyPair::from_pkcs8(key).expect("key");
        let mut out = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &rng, message, &mut out).expect("signature");
        out
    };
    match alg {
        "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        #[cfg(feature = "aws-lc")]
        "ES512" => {
            use aws_lc_rs::{rand, signature};
            let pair =
                signature::EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, key).expect("key");
            pair.sign(&rand::SystemRandom::new(), message).expect("signature").as_ref().to_vec()
        }
        "EdDSA" => {
            let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).expect("key");
            pair.sign(message).as_ref().to_vec()
        }
        "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
        "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
        "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
        "PS256" => rsa(&signature::RSA_PSS_SHA256),
        "PS384" => rsa(&signature::RSA_PSS_SHA384),
        "PS512" => rsa(&signature::RSA_PSS_SHA512),
        other => panic!("cannot sign {other}"),
    }
}

/// The public JWK of the test key of an algorithm, without `kid` and `alg`.
pub fn jwk(alg: &str) -> Value {
    jwk_of(alg, pkcs8(alg))
}

/// Likewise of another key.
pub fn jwk_of(alg: &str, key: &[u8]) -> Value {
    let rng = SystemRandom::new();
    let ec = |crv: &str, point: &[u8]| {
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
    };
    let ring_ec = |crv, algorithm| {
        let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, key, &rng).expect("key");
        ec(crv, pair.public_key().as_ref())
    };
    match alg {
        "ES256" => ring_ec("P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        "ES384" => ring_ec("P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        #[cfg(feature = "aws-lc")]
        "ES512" => {
            use aws_lc_rs::signature::{self, KeyPair as _};
            let algorithm = &signature::ECDSA_P521_SHA512_FIXED_SIGNING;
            let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, key).expect("key");
            ec("P-521", pair.public_key().as_ref())
        }
        "EdDSA" => {
            let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).expect("key");
            json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())})
        }
        _ => {
            let pair = signature::RsaKeyPair::from_pkcs8(key).expect("key");
            let components = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
            json!({"kty": "RSA", "n": b64(&components.n), "e": b64(&components.e)})
        }
    }
}

/// A JWK with `kid` and `alg`, both the algorithm's name.
pub fn named_jwk(alg: &str) -> Value {
    let mut key = jwk(alg);
    key["kid"] = alg.into();
    key["alg"] = alg.into();
    key
}

/// All test keys.
pub fn jwks() -> Value {
    json!({"keys": ALGORITHMS.iter().map(|alg| named_jwk(alg)).collect::<Vec<_>>()})
}

/// A token of any header and payload, signed whatever they say.
pub fn mint_raw(alg: &str, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
    let signature = sign(alg, signed.as_bytes());
    format!("{signed}.{}", b64(&signature))
}

pub fn header(alg: &str) -> Value {
    json!({"typ": "at+jwt", "alg": alg, "kid": alg})
}

/// Claims that pass, bound to `CLIENT_A`.
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "jti": "1", "iat": NOW - 10, "exp": NOW + 600,
        "scope": "read write", "cnf": {"x5t#S256": x5t(CLIENT_A)},
    })
}

/// A token with good claims, changed by `change`.
pub fn mint(alg: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims();
    change(&mut claims);
    mint_raw(alg, &header(alg).to_string(), &claims.to_string())
}

/// Sets a claim, or removes it with `Value::Null` in `remove`.
pub fn without(claims: &mut Value, name: &str) {
    claims.as_object_mut().expect("object").remove(name);
}

/// A configuration that accepts the good claims, changed by `change`.
pub fn config(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut config = json!({"issuer": ISSUER, "audience_required": [AUDIENCE], "jwks": jwks()});
    change(&mut config);
    config.to_string().into_bytes()
}
