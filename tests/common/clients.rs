//! Clients with keys, and proofs of any shape (RFC 9449 §4.2).

use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair};
use serde_json::{Value, json};

use super::{NOW, b64, jwk_of, mint, pkcs8, sign_with, x5t};

/// Where the gateway is.
pub const ORIGIN: &str = "https://api.test";

/// A key of a client.
#[derive(Clone)]
pub struct Key {
    pub alg: &'static str,
    private: Vec<u8>,
    /// The public key
    pub jwk: Value,
}

impl Key {
    /// A new one; with RSA, which cannot be made so quickly, the one of the tests.
    pub fn new(alg: &'static str) -> Key {
        let rng = SystemRandom::new();
        let ecdsa = |algorithm| EcdsaKeyPair::generate_pkcs8(algorithm, &rng).expect("a key").as_ref().to_vec();
        let private = match alg {
            "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => Ed25519KeyPair::generate_pkcs8(&rng).expect("a key").as_ref().to_vec(),
            _ => pkcs8(alg).to_vec(),
        };
        Key { alg, jwk: jwk_of(alg, &private), private }
    }

    /// RFC 7638, by a library whose objects are sorted by name.
    pub fn jkt(&self) -> String {
        x5t(self.jwk.to_string().as_bytes())
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        sign_with(self.alg, &self.private, message)
    }

    /// Signs header and payload, whatever they are.
    pub fn jws(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", b64(&signature))
    }

    pub fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": self.alg, "jwk": self.jwk})
    }

    /// A proof for `GET https://api.test/data`.
    pub fn proof(&self, token: &str) -> String {
        self.proof_with(token, |_, _| {})
    }

    /// Likewise with header and claims changed.
    pub fn proof_with(&self, token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (self.header(), proof_claims(token));
        change(&mut header, &mut claims);
        self.jws(&header.to_string(), &claims.to_string())
    }

    /// An access token that is bound to it.
    pub fn token(&self) -> String {
        self.token_with(|_| {})
    }

    pub fn token_with(&self, change: impl FnOnce(&mut Value)) -> String {
        mint("ES256", |claims| {
            claims["cnf"] = json!({"jkt": self.jkt()});
            change(claims);
        })
    }
}

/// Claims of a proof for `GET https://api.test/data`, with a `jti` of its own.
pub fn proof_claims(token: &str) -> Value {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let jti = format!("proof-{}", SERIAL.fetch_add(1, Ordering::Relaxed));
    json!({"jti": jti, "htm": "GET", "htu": format!("{ORIGIN}/data"), "iat": NOW, "ath": x5t(token.as_bytes())})
}
