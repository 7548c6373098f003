//! Private keys: what a client signs its assertions with.

use std::fmt;

use base64::engine::general_purpose::STANDARD;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};
use zeroize::Zeroizing;

use super::backend::rand::SystemRandom;
use super::backend::rsa::{KeyPairComponents, PublicKeyComponents};
use super::backend::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use super::{Algorithm, Curve, KeyError, PublicKey, bit_len, strip_zeros};

/// Largest RSA modulus that signs, in bits: ring takes no more, and a key shall not depend on the backend.
const RSA_SIGNING_MAX_BITS: usize = 4096;

/// The command that turns every other form of a key into the one that is read.
const CONVERT: &str = "openssl pkcs8 -topk8 -nocrypt";

/// Why a private key cannot be used. Nothing of the key is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SigningKeyError {
    /// Not one block of PEM, and that of a private key.
    Pem,
    /// The key is encrypted.
    Encrypted,
    /// Base64 or DER are malformed, or a part of the key is missing.
    Malformed,
    /// Neither RSA, nor EC on a curve of this build, nor Ed25519.
    Kind,
    /// The RSA modulus is longer than 4096 bits.
    TooLong,
    /// Its public part cannot be used.
    Public(KeyError),
    /// Private and public part are not of one key, or the crypto library refused it.
    Refused,
    /// A member of a JWK, and what it must be.
    Member(&'static str, &'static str),
}

impl fmt::Display for SigningKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SigningKeyError::Pem => {
                write!(f, "a private key is exactly one PEM block \"PRIVATE KEY\": make it with `{CONVERT}`")
            }
            SigningKeyError::Encrypted => write!(f, "the private key is encrypted: decrypt it with `{CONVERT}`"),
            SigningKeyError::Malformed => {
                write!(f, "the private key is malformed or incomplete: make it with `{CONVERT}`")
            }
            SigningKeyError::Kind => {
                f.write_str("the private key is neither RSA, nor EC on a known curve, nor Ed25519")
            }
            SigningKeyError::TooLong => write!(f, "the RSA modulus must have 2048 to {RSA_SIGNING_MAX_BITS} bits"),
            SigningKeyError::Public(e) => e.fmt(f),
            SigningKeyError::Refused => f.write_str("the parts of the private key do not belong together"),
            SigningKeyError::Member(name, what) => write!(f, "\"{name}\" {what}"),
        }
    }
}

/// The numbers of an RSA key (RFC 8017 §3.2), big-endian.
pub(crate) struct RsaNumbers<'a> {
    pub(crate) n: &'a [u8],
    pub(crate) e: &'a [u8],
    pub(crate) d: &'a [u8],
    pub(crate) p: &'a [u8],
    pub(crate) q: &'a [u8],
    pub(crate) dp: &'a [u8],
    pub(crate) dq: &'a [u8],
    pub(crate) qi: &'a [u8],
}

/// The numbers of a public key (RFC 7518 §6.2.1, §6.3.1, RFC 8037 §2), big-endian.
pub(crate) enum PublicNumbers {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
}

/// A private key that signs client assertions.
pub(crate) struct SigningKey {
    pair: Pair,
    kid: Option<Box<str>>,
    /// The only algorithm of the key, where something names one.
    alg: Option<Algorithm>,
}

enum Pair {
    /// With the octets of the modulus, which are those of a signature.
    Rsa(Box<RsaKeyPair>, usize),
    Ec(Curve, Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl SigningKey {
    /// One block of PEM (RFC 7468): PKCS#8, or the older forms of RSA (PKCS#1) and EC (SEC 1). Text around it is ignored (§2).
    pub(crate) fn from_pem(pem: &str) -> Result<SigningKey, SigningKeyError> {
        const BEGIN: &str = "-----BEGIN ";
        const DASHES: &str = "-----";
        let (_, block) = pem.split_once(BEGIN).ok_or(SigningKeyError::Pem)?;
        let (label, block) = block.split_once(DASHES).ok_or(SigningKeyError::Pem)?;
        let (text, behind) = block.split_once("-----END ").ok_or(SigningKeyError::Pem)?;
        let end = behind.strip_prefix(label).and_then(|behind| behind.strip_prefix(DASHES));
        if end.is_none_or(|behind| behind.contains(BEGIN)) || text.contains(BEGIN) {
            return Err(SigningKeyError::Pem);
        }
        // The older encryption has a header inside the block (RFC 1421 §4.6).
        if label == "ENCRYPTED PRIVATE KEY" || text.contains("ENCRYPTED") {
            return Err(SigningKeyError::Encrypted);
        }
        let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
        base64.extend(text.bytes().filter(|octet| !octet.is_ascii_whitespace()));
        let der = decode(&STANDARD, &base64).ok_or(SigningKeyError::Malformed)?;
        match label {
            "PRIVATE KEY" => Self::from_pkcs8(&der),
            "RSA PRIVATE KEY" => Self::from_pkcs1(&der),
            "EC PRIVATE KEY" => Self::from_sec1(&der, None),
            _ => Err(SigningKeyError::Pem),
        }
    }

    /// `PrivateKeyInfo` (RFC 5958 §2)
    fn from_pkcs8(der: &[u8]) -> Result<SigningKey, SigningKeyError> {
        const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
        const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
        const ED25519: &[u8] = b"\x2b\x65\x70";
        let malformed = SigningKeyError::Malformed;
        let mut info = Der::whole(der).ok_or(malformed)?;
        info.next(Tag::Integer).ok_or(malformed)?;
        let mut algorithm = Der(info.next(Tag::Sequence).ok_or(malformed)?);
        let key = info.next(Tag::OctetString).ok_or(malformed)?;
        match algorithm.next(Tag::Oid).ok_or(malformed)? {
            RSA => Self::from_pkcs1(key),
            // The curve by name; its equation spelt out is for no one (RFC 5480 §2.1.1).
            EC => Self::from_sec1(key, Some(algorithm.next(Tag::Oid).ok_or(SigningKeyError::Kind)?)),
            ED25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| SigningKeyError::Refused)?;
                let public = PublicKey::ed25519(pair.public_key().as_ref());
                Self::proven(Pair::Ed25519(Box::new(pair)), &public.map_err(SigningKeyError::Public)?)
            }
            _ => Err(SigningKeyError::Kind),
        }
    }

    /// `RSAPrivateKey` (RFC 8017 §A.1.2), of two primes.
    fn from_pkcs1(der: &[u8]) -> Result<SigningKey, SigningKeyError> {
        let malformed = SigningKeyError::Malformed;
        let mut key = Der::whole(der).ok_or(malformed)?;
        if key.next(Tag::Integer) != Some(&[0]) {
            return Err(malformed);
        }
        let mut number = || key.next(Tag::Integer).ok_or(malformed);
        let (n, e, d, p) = (number()?, number()?, number()?, number()?);
        let (q, dp, dq, qi) = (number()?, number()?, number()?, number()?);
        Self::rsa(&RsaNumbers { n, e, d, p, q, dp, dq, qi })
    }

    /// `ECPrivateKey` (RFC 5915 §3), with the curve of what it lies in. The public part, which the RFC only recommends, must be there.
    fn from_sec1(der: &[u8], outer: Option<&[u8]>) -> Result<SigningKey, SigningKeyError> {
        let malformed = SigningKeyError::Malformed;
        let mut key = Der::whole(der).ok_or(malformed)?;
        key.next(Tag::Integer).ok_or(malformed)?;
        let d = key.next(Tag::OctetString).ok_or(malformed)?;
        let own = match key.tagged(0) {
            Some(parameters) => Some(Der(parameters).next(Tag::Oid).ok_or(SigningKeyError::Kind)?),
            None => None,
        };
        let oid = outer.or(own).ok_or(malformed)?;
        if own.is_some_and(|own| own != oid) {
            return Err(SigningKeyError::Refused);
        }
        let curve = match oid {
            b"\x2a\x86\x48\xce\x3d\x03\x01\x07" => Curve::P256,
            b"\x2b\x81\x04\x00\x22" => Curve::P384,
            #[cfg(feature = "aws-lc")]
            b"\x2b\x81\x04\x00\x23" => Curve::P521,
            _ => return Err(SigningKeyError::Kind),
        };
        let bits = key.tagged(1).and_then(|public| Der(public).next(Tag::BitString)).ok_or(malformed)?;
        // No unused bits, an uncompressed point, and its coordinates (SEC 1 §2.3.3).
        let Some([0, 4, point @ ..]) = Some(bits) else {
            return Err(malformed);
        };
        let (x, y) = point.split_at_checked(curve.coordinate_len()).ok_or(malformed)?;
        Self::ec(curve, d, x, y)
    }

    /// An RSA key of 2048 to 4096 bits.
    pub(crate) fn rsa(numbers: &RsaNumbers<'_>) -> Result<SigningKey, SigningKeyError> {
        let RsaNumbers { n, e, d, p, q, dp, dq, qi } = *numbers;
        let n = strip_zeros(n);
        let public = PublicKey::rsa(n, e).map_err(SigningKeyError::Public)?;
        if bit_len(n) > RSA_SIGNING_MAX_BITS {
            return Err(SigningKeyError::TooLong);
        }
        let pair = RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n, e: strip_zeros(e) },
            d: strip_zeros(d),
            p: strip_zeros(p),
            q: strip_zeros(q),
            dP: strip_zeros(dp),
            dQ: strip_zeros(dq),
            qInv: strip_zeros(qi),
        });
        let pair = pair.map_err(|_| SigningKeyError::Refused)?;
        Self::proven(Pair::Rsa(Box::new(pair), n.len()), &public)
    }

    /// An EC key; every number has the full length of the curve.
    pub(crate) fn ec(curve: Curve, d: &[u8], x: &[u8], y: &[u8]) -> Result<SigningKey, SigningKeyError> {
        let public = PublicKey::ec(curve, x, y).map_err(SigningKeyError::Public)?;
        if d.len() != curve.coordinate_len() {
            return Err(SigningKeyError::Public(KeyError::CoordinateSize));
        }
        let point = [&[4u8], x, y].concat();
        let signing = ecdsa(curve);
        #[cfg(not(feature = "aws-lc"))]
        let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, d, &point, &SystemRandom::new());
        #[cfg(feature = "aws-lc")]
        let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, d, &point);
        Self::proven(Pair::Ec(curve, Box::new(pair.map_err(|_| SigningKeyError::Refused)?)), &public)
    }

    /// An Ed25519 key of two times 32 octets (RFC 8037 §2).
    pub(crate) fn ed25519(d: &[u8], x: &[u8]) -> Result<SigningKey, SigningKeyError> {
        let public = PublicKey::ed25519(x).map_err(SigningKeyError::Public)?;
        if d.len() != 32 {
            return Err(SigningKeyError::Public(KeyError::CoordinateSize));
        }
        let pair = Ed25519KeyPair::from_seed_and_public_key(d, x).map_err(|_| SigningKeyError::Refused)?;
        Self::proven(Pair::Ed25519(Box::new(pair)), &public)
    }

    /// A key that has shown that it signs for `public`: the libraries look at some of the numbers only when they sign.
    fn proven(pair: Pair, public: &PublicKey) -> Result<SigningKey, SigningKeyError> {
        const MESSAGE: &[u8] = b"keybound";
        let key = SigningKey { pair, kid: None, alg: None };
        let algorithm = key.default_algorithm();
        let signature = key.sign(algorithm, MESSAGE).ok_or(SigningKeyError::Refused)?;
        if !public.verify(algorithm, MESSAGE, &signature) {
            return Err(SigningKeyError::Refused);
        }
        Ok(key)
    }

    /// The key under a name, in place of the one it has.
    pub(crate) fn with_kid(self, kid: &str) -> SigningKey {
        SigningKey { kid: Some(kid.into()), ..self }
    }

    /// The key for one algorithm alone; none if it does not support it.
    pub(crate) fn with_algorithm(self, algorithm: Algorithm) -> Option<SigningKey> {
        self.supports(algorithm).then_some(SigningKey { alg: Some(algorithm), ..self })
    }

    /// The name under which the authorization server knows the key.
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The public half; none if the crypto library shows it in another form than the standards have.
    pub(crate) fn public(&self) -> Option<PublicNumbers> {
        match &self.pair {
            Pair::Rsa(pair, _) => {
                // RFC 8017 §A.1.1
                let mut numbers = Der::whole(pair.public_key().as_ref())?;
                let mut number = || Some(strip_zeros(numbers.next(Tag::Integer)?).to_vec());
                Some(PublicNumbers::Rsa { n: number()?, e: number()? })
            }
            Pair::Ec(curve, pair) => {
                let (4, point) = pair.public_key().as_ref().split_first()? else {
                    return None;
                };
                let (x, y) = point.split_at_checked(curve.coordinate_len())?;
                Some(PublicNumbers::Ec { curve: *curve, x: x.to_vec(), y: y.to_vec() })
            }
            Pair::Ed25519(pair) => Some(PublicNumbers::Ed25519 { x: pair.public_key().as_ref().to_vec() }),
        }
    }

    /// Whether it makes signatures of `algorithm`.
    pub(crate) fn supports(&self, algorithm: Algorithm) -> bool {
        let able = match &self.pair {
            Pair::Rsa(..) => algorithm.is_rsa(),
            Pair::Ec(curve, _) => curve.algorithm() == algorithm,
            Pair::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        able && self.alg.is_none_or(|own| own == algorithm)
    }

    /// The algorithm of the key; PS256 for RSA that names none.
    pub(crate) fn default_algorithm(&self) -> Algorithm {
        self.alg.unwrap_or(match &self.pair {
            Pair::Rsa(..) => Algorithm::Ps256,
            Pair::Ec(curve, _) => curve.algorithm(),
            Pair::Ed25519(_) => Algorithm::EdDsa,
        })
    }

    /// The signature as JWS has it (RFC 7518 §3.3 to §3.5, RFC 8037 §3.1); none for an algorithm that the key does not support.
    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        if !self.supports(algorithm) {
            return None;
        }
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair, len) => {
                let mut out = vec![0; *len];
                pair.sign(rsa_padding(algorithm)?, &random, message, &mut out).ok()?;
                Some(out)
            }
            Pair::Ec(_, pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            #[cfg(not(feature = "aws-lc"))]
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            #[cfg(feature = "aws-lc")]
            Pair::Ed25519(pair) => Some(pair.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }
}

fn rsa_padding(algorithm: Algorithm) -> Option<&'static dyn signature::RsaEncoding> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_SHA512),
        _ => None,
    }
}

fn ecdsa(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        #[cfg(feature = "aws-lc")]
        Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
    }
}

/// Decodes a secret: what is decoded is wiped, also where the rest is wrong.
pub(crate) fn decode(engine: &impl base64::Engine, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Room for all of it, so that nothing is moved and left behind.
    let mut out = Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(text.len())));
    engine.decode_vec(text, &mut out).ok()?;
    Some(out)
}

/// The elements of a DER value that are not yet read. It borrows: no copy of a secret is made.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// What is in a sequence that is all of `der`.
    fn whole(der: &'a [u8]) -> Option<Der<'a>> {
        let mut outer = Der(der);
        let inner = outer.next(Tag::Sequence)?;
        outer.0.is_empty().then_some(Der(inner))
    }

    /// The contents of the next element, if it is a `tag`.
    fn next(&mut self, tag: Tag) -> Option<&'a [u8]> {
        self.element(Class::Universal, tag)
    }

    /// The contents of the next element, if it is `[tag]`.
    fn tagged(&mut self, tag: u32) -> Option<&'a [u8]> {
        self.element(Class::ContextSpecific, Tag(tag))
    }

    fn element(&mut self, class: Class, tag: Tag) -> Option<&'a [u8]> {
        let (rest, element) = Any::from_der(self.0).ok()?;
        if element.class() != class || element.tag() != tag {
            return None;
        }
        self.0 = rest;
        Some(element.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::jose::{b64, json, jwk};

    /// PKCS#8, and the same key as JWK.
    type Forms = (&'static [u8], &'static str);

    macro_rules! key {
        ($name:literal) => {
            (
                include_bytes!(concat!("../../tests/common/keys/", $name, ".p8")).as_slice(),
                include_str!(concat!("../../tests/common/keys/", $name, ".jwk")),
            )
        };
    }

    const RSA: Forms = key!("rsa");
    const P256: Forms = key!("p256");
    const P384: Forms = key!("p384");
    const P521: Forms = key!("p521");
    const ED25519: Forms = key!("ed25519");
    const RSA1024: Forms = key!("rsa1024");
    const RSA_E3: &[u8] = include_bytes!("../../tests/common/keys/rsa-e3.p8");
    const SECP256K1: &[u8] = include_bytes!("../../tests/common/keys/secp256k1.p8");

    const RSA_ALGORITHMS: [Algorithm; 6] =
        [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

    /// The keys of this build with their algorithms, the one they choose first.
    fn keys() -> Vec<(Forms, Vec<Algorithm>)> {
        let mut rsa = RSA_ALGORITHMS.to_vec();
        rsa.swap(0, 3);
        vec![
            (RSA, rsa),
            (P256, vec![Algorithm::Es256]),
            (P384, vec![Algorithm::Es384]),
            #[cfg(feature = "aws-lc")]
            (P521, vec![Algorithm::Es512]),
            (ED25519, vec![Algorithm::EdDsa]),
        ]
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let base64 = STANDARD.encode(der);
        let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).expect("ASCII")).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    fn from_pkcs8(der: &[u8]) -> Result<SigningKey, SigningKeyError> {
        SigningKey::from_pem(&pem("PRIVATE KEY", der))
    }

    fn from_jwk(text: &str) -> Result<SigningKey, SigningKeyError> {
        SigningKey::from_jwk(&json::parse_object(text.as_bytes()).expect("JSON"))
    }

    /// The key with another string in a member.
    fn changed(jwk: &str, name: &str, value: &str) -> String {
        let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(jwk).expect("JSON");
        members.insert(name.to_owned(), value.into()).expect("member");
        serde_json::Value::from(members).to_string()
    }

    /// The key with other octets in a member.
    fn with_octets(jwk: &str, name: &str, change: impl Fn(&mut Vec<u8>)) -> String {
        let members = json::parse_object(jwk.as_bytes()).expect("JSON");
        let value = members.get(name).and_then(json::Value::as_str).expect("a string");
        let mut octets = b64::decode(value.as_bytes()).expect("base64url");
        change(&mut octets);
        changed(jwk, name, &b64::encode(&octets))
    }

    fn verifies(jwk: &str, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let mut members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(jwk).expect("JSON");
        members.retain(|name, _| ["kty", "crv", "n", "e", "x", "y"].contains(&name.as_str()));
        let set = serde_json::json!({"keys": [members]}).to_string();
        let (set, _) = jwk::JwkSet::parse(set.as_bytes()).expect("set");
        set.candidates(None, algorithm).any(|public| public.verify(algorithm, message, signature))
    }

    #[test]
    fn what_either_form_of_a_key_signs_its_public_part_verifies() {
        for ((der, jwk), algorithms) in keys() {
            for key in [from_pkcs8(der).expect("key"), from_jwk(jwk).expect("key")] {
                assert_eq!(key.default_algorithm(), algorithms[0]);
                assert_eq!(key.kid(), None);
                for &algorithm in Algorithm::ALL {
                    let signature = key.sign(algorithm, b"message");
                    assert_eq!(key.supports(algorithm), algorithms.contains(&algorithm), "{algorithm:?}");
                    assert_eq!(signature.is_some(), algorithms.contains(&algorithm), "{algorithm:?}");
                    if let Some(signature) = signature {
                        assert!(verifies(jwk, algorithm, b"message", &signature), "{algorithm:?}");
                        assert!(!verifies(jwk, algorithm, b"massage", &signature), "{algorithm:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn rfc7518_3_4_a_an_ecdsa_signature_is_two_numbers_of_full_length() {
        for (key, algorithm, len) in [(P256, Algorithm::Es256, 64), (P384, Algorithm::Es384, 96)] {
            let key = from_jwk(key.1).expect("key");
            for _ in 0..20 {
                assert_eq!(key.sign(algorithm, b"message").map(|s| s.len()), Some(len));
            }
        }
    }

    #[cfg(feature = "aws-lc")]
    #[test]
    fn what_aws_lc_signs_ring_verifies() {
        use ring::signature::{self as other, UnparsedPublicKey};
        let member = |jwk: &str, name: &str| {
            let members: serde_json::Value = serde_json::from_str(jwk).expect("JSON");
            b64::decode(members[name].as_str().expect("a string").as_bytes()).expect("base64url")
        };
        let rsa: [&'static other::RsaParameters; 6] = [
            &other::RSA_PKCS1_2048_8192_SHA256,
            &other::RSA_PKCS1_2048_8192_SHA384,
            &other::RSA_PKCS1_2048_8192_SHA512,
            &other::RSA_PSS_2048_8192_SHA256,
            &other::RSA_PSS_2048_8192_SHA384,
            &other::RSA_PSS_2048_8192_SHA512,
        ];
        let key = from_pkcs8(RSA.0).expect("key");
        for (algorithm, parameters) in RSA_ALGORITHMS.into_iter().zip(rsa) {
            let public = other::RsaPublicKeyComponents { n: member(RSA.1, "n"), e: member(RSA.1, "e") };
            let signature = key.sign(algorithm, b"message").expect("signature");
            assert!(public.verify(parameters, b"message", &signature).is_ok(), "{algorithm:?}");
        }
        let others: [(_, _, &'static dyn other::VerificationAlgorithm); 3] = [
            (P256, [vec![4], member(P256.1, "x"), member(P256.1, "y")].concat(), &other::ECDSA_P256_SHA256_FIXED),
            (P384, [vec![4], member(P384.1, "x"), member(P384.1, "y")].concat(), &other::ECDSA_P384_SHA384_FIXED),
            (ED25519, member(ED25519.1, "x"), &other::ED25519),
        ];
        for (key, public, parameters) in others {
            let key = from_pkcs8(key.0).expect("key");
            let signature = key.sign(key.default_algorithm(), b"message").expect("signature");
            let verified = UnparsedPublicKey::new(parameters, public).verify(b"message", &signature);
            assert!(verified.is_ok(), "{parameters:?}");
        }
    }

    #[test]
    fn rfc8037_a_4_a_the_signature_is_the_one_of_the_rfc() {
        let key = from_jwk(
            r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        );
        let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = key.expect("key").sign(Algorithm::EdDsa, signed).expect("signature");
        assert_eq!(
            b64::encode(&signature),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn the_older_forms_of_pem_are_read() {
        // What PKCS#8 wraps.
        let key = SigningKey::from_pem(&pem("RSA PRIVATE KEY", &RSA.0[26..])).expect("key");
        let signature = key.sign(Algorithm::Rs256, b"message").expect("signature");
        assert!(verifies(RSA.1, Algorithm::Rs256, b"message", &signature));
        // SEC 1 names its curve itself: as PKCS#8 wraps it, it does not.
        let unnamed = &P256.0[29..];
        assert_eq!(SigningKey::from_pem(&pem("EC PRIVATE KEY", unnamed)).err(), Some(SigningKeyError::Malformed));
        let curve = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
        let with = |curve: &[u8]| [b"\x30\x77", &unnamed[2..39], curve, &unnamed[39..]].concat();
        let key = SigningKey::from_pem(&pem("EC PRIVATE KEY", &with(curve))).expect("key");
        let signature = key.sign(Algorithm::Es256, b"message").expect("signature");
        assert!(verifies(P256.1, Algorithm::Es256, b"message", &signature));
        let other = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01";
        assert_eq!(SigningKey::from_pem(&pem("EC PRIVATE KEY", &with(other))).err(), Some(SigningKeyError::Kind));
    }

    #[test]
    fn rfc7468_2_a_a_pem_is_one_block_with_text_around_it_or_none() {
        let good = pem("PRIVATE KEY", ED25519.0);
        for text in [
            good.clone(),
            format!("Bag Attributes\n    friendlyName: a\n{good}\nbehind"),
            good.replace('\n', "\r\n"),
            good.trim_end().to_owned(),
        ] {
            assert!(SigningKey::from_pem(&text).is_ok());
        }
        let base64 = STANDARD.encode(ED25519.0);
        for (text, error) in [
            (String::new(), SigningKeyError::Pem),
            (base64.clone(), SigningKeyError::Pem),
            (good.repeat(2), SigningKeyError::Pem),
            (good.clone() + &pem("CERTIFICATE", b"0"), SigningKeyError::Pem),
            (pem("EC PARAMETERS", b"0") + &good, SigningKeyError::Pem),
            (format!("-----BEGIN PRIVATE KEY-----\n{good}"), SigningKeyError::Pem),
            (format!("-----BEGIN PRIVATE KEY-----\n{base64}\n"), SigningKeyError::Pem),
            (good.replace("END PRIVATE", "END EC PRIVATE"), SigningKeyError::Pem),
            (pem("PUBLIC KEY", ED25519.0), SigningKeyError::Pem),
            (pem("OPENSSH PRIVATE KEY", ED25519.0), SigningKeyError::Pem),
            (pem("ENCRYPTED PRIVATE KEY", ED25519.0), SigningKeyError::Encrypted),
            (
                good.replacen("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1),
                SigningKeyError::Encrypted,
            ),
            (good.replace("\nMC4C", "\nMC4*"), SigningKeyError::Malformed),
            (good.replace("\nMC4C", "\nMC4"), SigningKeyError::Malformed),
            (pem("PRIVATE KEY", b""), SigningKeyError::Malformed),
            (pem("PRIVATE KEY", &[ED25519.0, &[0]].concat()), SigningKeyError::Malformed),
        ] {
            let refused = SigningKey::from_pem(&text).err();
            assert_eq!(refused, Some(error), "{text}");
            assert!(refused.is_some_and(|e| e.to_string().contains("openssl pkcs8 -topk8 -nocrypt")));
        }
    }

    #[test]
    fn a_key_cut_anywhere_is_refused() {
        for key in [RSA.0, P256.0, ED25519.0] {
            for len in 0..key.len() {
                assert!(from_pkcs8(&key[..len]).is_err(), "{len} octets");
            }
        }
    }

    #[test]
    fn rfc7518_3_3_b_rsa_below_2048_bits_does_not_sign() {
        let refused = Some(SigningKeyError::Public(KeyError::ModulusSize));
        assert_eq!(from_pkcs8(RSA1024.0).err(), refused);
        assert_eq!(from_jwk(RSA1024.1).err(), refused);
    }

    #[test]
    fn rsa_above_4096_bits_does_not_sign() {
        let long = |octets: usize| with_octets(RSA.1, "n", move |n| n.resize(octets, 0xff));
        assert_eq!(from_jwk(&long(513)).err(), Some(SigningKeyError::TooLong));
        assert_eq!(from_jwk(&long(512)).err(), Some(SigningKeyError::Refused));
    }

    #[test]
    fn an_rsa_exponent_of_3_does_not_sign() {
        assert_eq!(from_pkcs8(RSA_E3).err(), Some(SigningKeyError::Public(KeyError::Exponent)));
    }

    #[test]
    fn another_kind_of_key_is_refused() {
        assert_eq!(from_pkcs8(SECP256K1).err(), Some(SigningKeyError::Kind));
        if cfg!(not(feature = "aws-lc")) {
            assert_eq!(from_pkcs8(P521.0).err(), Some(SigningKeyError::Kind));
            assert_eq!(from_jwk(P521.1).err(), Some(SigningKeyError::Kind));
        }
        // X25519 (RFC 8410 §3)
        let mut x25519 = ED25519.0.to_vec();
        x25519[11] = 0x6e;
        assert_eq!(from_pkcs8(&x25519).err(), Some(SigningKeyError::Kind));
        for (name, value) in [("crv", "secp256k1"), ("crv", "X25519"), ("kty", "oct"), ("kty", "EC ")] {
            let refused = from_jwk(&changed(P256.1, name, value)).err();
            assert_eq!(refused, Some(SigningKeyError::Kind), "{value}");
        }
    }

    #[test]
    fn a_wrong_curve_is_refused() {
        let p384 = changed(P256.1, "crv", "P-384");
        assert_eq!(from_jwk(&p384).err(), Some(SigningKeyError::Public(KeyError::CoordinateSize)));
        // The numbers of P-256 under the name of P-384, from without and from within.
        let content = [&P256.0[3..6], &P384.0[6..24], &P256.0[27..]].concat();
        let der = [&[0x30, 0x81, u8::try_from(content.len()).expect("short")], &content[..]].concat();
        assert_eq!(from_pkcs8(&der).err(), Some(SigningKeyError::Public(KeyError::CoordinateSize)));
        let named = [b"\x30\x74", &P256.0[31..68], b"\xa0\x07", &P384.0[17..24], &P256.0[68..]].concat();
        let refused = SigningKey::from_sec1(&named, Some(&P256.0[19..27])).err();
        assert_eq!(refused, Some(SigningKeyError::Refused));
    }

    #[test]
    fn a_public_part_of_another_key_is_refused() {
        // A point on the curve: the key of RFC 7515 §A.3.1.
        let other = changed(P256.1, "x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        let other = changed(&other, "y", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        assert_eq!(from_jwk(&other).err(), Some(SigningKeyError::Refused));
        let other = changed(ED25519.1, "x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(from_jwk(&other).err(), Some(SigningKeyError::Refused));
        let flip = |octets: &mut Vec<u8>| octets[100] ^= 1;
        assert_eq!(from_jwk(&with_octets(RSA.1, "n", flip)).err(), Some(SigningKeyError::Refused));
        // 65539, which is odd and large enough.
        assert_eq!(from_jwk(&with_octets(RSA.1, "e", |e| e[2] = 3)).err(), Some(SigningKeyError::Refused));
        for der in [P256.0, P384.0] {
            let mut der = der.to_vec();
            *der.last_mut().expect("octets") ^= 1;
            assert!(from_pkcs8(&der).is_err());
        }
    }

    #[test]
    fn a_changed_number_of_a_private_part_is_refused() {
        let flip = |octets: &mut Vec<u8>| octets[20] ^= 1;
        for name in ["p", "q", "dp", "dq", "qi"] {
            assert_eq!(from_jwk(&with_octets(RSA.1, name, flip)).err(), Some(SigningKeyError::Refused), "{name}");
        }
        for key in [P256.1, P384.1, ED25519.1] {
            assert_eq!(from_jwk(&with_octets(key, "d", flip)).err(), Some(SigningKeyError::Refused));
            let short = with_octets(key, "d", |d| d.truncate(31));
            assert_eq!(from_jwk(&short).err(), Some(SigningKeyError::Public(KeyError::CoordinateSize)));
        }
        let zero = with_octets(P256.1, "d", |d| d.fill(0));
        assert_eq!(from_jwk(&zero).err(), Some(SigningKeyError::Refused));
    }

    #[test]
    fn zeros_in_front_of_an_rsa_number_do_not_matter() {
        for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
            assert!(from_jwk(&with_octets(RSA.1, name, |n| n.insert(0, 0))).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_error_says_nothing_of_the_key() {
        for error in [
            SigningKeyError::Pem,
            SigningKeyError::Encrypted,
            SigningKeyError::Malformed,
            SigningKeyError::Kind,
            SigningKeyError::TooLong,
            SigningKeyError::Refused,
            SigningKeyError::Public(KeyError::Exponent),
            SigningKeyError::Member("d", "is missing"),
        ] {
            assert!(!error.to_string().is_empty());
        }
        let jwk = changed(P256.1, "crv", "230y-EefMz_Fy9Bp");
        assert!(from_jwk(&jwk).is_err_and(|e| !e.to_string().contains("230y") && !format!("{e:?}").contains("230y")));
    }

    #[test]
    fn a_key_is_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<SigningKey>();
    }
}
