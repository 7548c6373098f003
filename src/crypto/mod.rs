//! The only module that names a crypto crate: hashing, constant-time comparison and signature verification over keys that are prepared once;
//! signatures, sealing and randomness for what the library itself says to an authorization server.

pub(crate) mod seal;
pub(crate) mod sign;

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

#[cfg(feature = "aws-lc")]
use aws_lc_rs as backend;
#[cfg(not(feature = "aws-lc"))]
use ring as backend;

use backend::rand::SecureRandom as _;
use backend::{digest, hmac, rand, signature};

/// The name of the crypto library that this build verifies signatures with.
pub const BACKEND: &str = if cfg!(feature = "aws-lc") { "aws-lc" } else { "ring" };

/// Smallest RSA modulus, in bits (RFC 7518 §3.3, §3.5).
pub const RSA_MIN_BITS: usize = 2048;
/// Largest RSA modulus, in bits: verification time grows with its square.
pub const RSA_MAX_BITS: usize = 8192;
/// Smallest RSA public exponent: smaller ones have a history of forgeries.
pub const RSA_MIN_EXPONENT: u64 = 65_537;

/// A JWS signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). There is no `none` and no HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512
    Rs512,
    /// RSASSA-PSS with SHA-256
    Ps256,
    /// RSASSA-PSS with SHA-384
    Ps384,
    /// RSASSA-PSS with SHA-512
    Ps512,
    /// ECDSA on P-256 with SHA-256
    Es256,
    /// ECDSA on P-384 with SHA-384
    Es384,
    /// ECDSA on P-521 with SHA-512
    #[cfg(feature = "aws-lc")]
    Es512,
    /// Ed25519
    EdDsa,
}

impl Algorithm {
    /// Every algorithm of this build, in the order in which documents and messages list them.
    pub const ALL: &'static [Algorithm] = &[
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        #[cfg(feature = "aws-lc")]
        Algorithm::Es512,
        Algorithm::EdDsa,
    ];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            #[cfg(feature = "aws-lc")]
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of a name, compared by code point. `Ed25519` (RFC 9864) is the same algorithm as `EdDSA` here, since no other curve is supported.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        if name == "Ed25519" {
            return Some(Algorithm::EdDsa);
        }
        Self::ALL.iter().copied().find(|a| a.name() == name)
    }

    fn is_rsa(self) -> bool {
        matches!(
            self,
            Algorithm::Rs256
                | Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps256
                | Algorithm::Ps384
                | Algorithm::Ps512
        )
    }
}

/// A curve of an EC key (RFC 7518 §6.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `P-256`
    P256,
    /// `P-384`
    P384,
    /// `P-521`
    #[cfg(feature = "aws-lc")]
    P521,
}

impl Curve {
    /// The curve of a JWK `crv` value.
    pub fn from_name(name: &str) -> Option<Curve> {
        match name {
            "P-256" => Some(Curve::P256),
            "P-384" => Some(Curve::P384),
            #[cfg(feature = "aws-lc")]
            "P-521" => Some(Curve::P521),
            _ => None,
        }
    }

    /// The JWK `crv` value.
    pub fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            #[cfg(feature = "aws-lc")]
            Curve::P521 => "P-521",
        }
    }

    /// Octets of one coordinate.
    pub fn coordinate_len(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            #[cfg(feature = "aws-lc")]
            Curve::P521 => 66,
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Curve::P256 => Algorithm::Es256,
            Curve::P384 => Algorithm::Es384,
            #[cfg(feature = "aws-lc")]
            Curve::P521 => Algorithm::Es512,
        }
    }
}

/// Why a public key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The RSA modulus is shorter than 2048 or longer than 8192 bits.
    ModulusSize,
    /// The RSA exponent is even, below 65537, or longer than 8 octets.
    Exponent,
    /// A coordinate or key does not have the length of its curve.
    CoordinateSize,
    /// The crypto library refused the key.
    Refused,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::ModulusSize => "the RSA modulus must have 2048 to 8192 bits",
            KeyError::Exponent => "the RSA exponent must be odd and at least 65537",
            KeyError::CoordinateSize => "a coordinate does not have the full length of its curve",
            KeyError::Refused => "the key is not a valid public key",
        })
    }
}

/// A public key, prepared at load for every algorithm that it can verify.
pub struct PublicKey(Prepared);

#[cfg(not(feature = "aws-lc"))]
enum Prepared {
    Rsa(signature::RsaPublicKeyComponents<Box<[u8]>>),
    Other(Algorithm, signature::UnparsedPublicKey<Box<[u8]>>),
}

#[cfg(feature = "aws-lc")]
struct Prepared(Vec<(Algorithm, signature::ParsedPublicKey)>);

impl PublicKey {
    /// An RSA key from modulus and exponent, big-endian.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<PublicKey, KeyError> {
        let n = strip_zeros(n);
        let e = strip_zeros(e);
        let bits = bit_len(n);
        if !(RSA_MIN_BITS..=RSA_MAX_BITS).contains(&bits) {
            return Err(KeyError::ModulusSize);
        }
        let exponent = e
            .iter()
            .try_fold(0u64, |acc, &octet| acc.checked_mul(256)?.checked_add(u64::from(octet)))
            .ok_or(KeyError::Exponent)?;
        if exponent < RSA_MIN_EXPONENT || exponent.is_multiple_of(2) {
            return Err(KeyError::Exponent);
        }
        let components = signature::RsaPublicKeyComponents { n: Box::<[u8]>::from(n), e: Box::<[u8]>::from(e) };
        #[cfg(not(feature = "aws-lc"))]
        return Ok(PublicKey(Prepared::Rsa(components)));
        #[cfg(feature = "aws-lc")]
        {
            let mut keys = Vec::new();
            for &algorithm in Algorithm::ALL {
                if let Some(parameters) = rsa_parameters(algorithm) {
                    let key = components.to_parsed_public_key(parameters).map_err(|_| KeyError::Refused)?;
                    keys.push((algorithm, key));
                }
            }
            Ok(PublicKey(Prepared(keys)))
        }
    }

    /// An EC key from its affine coordinates, each of the full length of the curve.
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<PublicKey, KeyError> {
        let len = curve.coordinate_len();
        if x.len() != len || y.len() != len {
            return Err(KeyError::CoordinateSize);
        }
        let point = [&[4u8], x, y].concat();
        Self::prepare(curve.algorithm(), point)
    }

    /// An Ed25519 key of 32 octets (RFC 8037 §2).
    pub fn ed25519(x: &[u8]) -> Result<PublicKey, KeyError> {
        if x.len() != 32 {
            return Err(KeyError::CoordinateSize);
        }
        Self::prepare(Algorithm::EdDsa, x.to_vec())
    }

    fn prepare(algorithm: Algorithm, bytes: Vec<u8>) -> Result<PublicKey, KeyError> {
        let parameters = parameters(algorithm).ok_or(KeyError::Refused)?;
        #[cfg(not(feature = "aws-lc"))]
        return Ok(PublicKey(Prepared::Other(algorithm, signature::UnparsedPublicKey::new(parameters, bytes.into()))));
        #[cfg(feature = "aws-lc")]
        {
            let key = signature::ParsedPublicKey::new(parameters, &bytes).map_err(|_| KeyError::Refused)?;
            Ok(PublicKey(Prepared(vec![(algorithm, key)])))
        }
    }

    /// Whether this key can verify signatures of `algorithm`.
    pub fn supports(&self, algorithm: Algorithm) -> bool {
        match &self.0 {
            #[cfg(not(feature = "aws-lc"))]
            Prepared::Rsa(_) => algorithm.is_rsa(),
            #[cfg(not(feature = "aws-lc"))]
            Prepared::Other(own, _) => *own == algorithm,
            #[cfg(feature = "aws-lc")]
            Prepared(keys) => keys.iter().any(|(own, _)| *own == algorithm),
        }
    }

    /// Whether `signature` is this key's over `message` by `algorithm`; false for an algorithm that the key does not support.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            #[cfg(not(feature = "aws-lc"))]
            Prepared::Rsa(key) => {
                rsa_parameters(algorithm).is_some_and(|parameters| key.verify(parameters, message, signature).is_ok())
            }
            #[cfg(not(feature = "aws-lc"))]
            Prepared::Other(own, key) => *own == algorithm && key.verify(message, signature).is_ok(),
            #[cfg(feature = "aws-lc")]
            Prepared(keys) => keys
                .iter()
                .find(|(own, _)| *own == algorithm)
                .is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok()),
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn parameters(algorithm: Algorithm) -> Option<&'static dyn signature::VerificationAlgorithm> {
    match algorithm {
        Algorithm::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
        #[cfg(feature = "aws-lc")]
        Algorithm::Es512 => Some(&signature::ECDSA_P521_SHA512_FIXED),
        Algorithm::EdDsa => Some(&signature::ED25519),
        _ => None,
    }
}

/// Big-endian integer without its leading zero octets.
pub(crate) fn strip_zeros(mut integer: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = integer {
        integer = rest;
    }
    integer
}

fn bit_len(stripped: &[u8]) -> usize {
    let Some(first) = stripped.first() else {
        return 0;
    };
    let unused = first.leading_zeros() as usize;
    stripped.len().saturating_mul(8).saturating_sub(unused)
}

/// SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// SHA-384 of `data`.
pub(crate) fn sha384(data: &[u8]) -> [u8; 48] {
    let mut out = [0; 48];
    out.copy_from_slice(digest::digest(&digest::SHA384, data).as_ref());
    out
}

/// SHA-512 of `data`.
pub(crate) fn sha512(data: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    out.copy_from_slice(digest::digest(&digest::SHA512, data).as_ref());
    out
}

/// A key of HMAC-SHA256 (RFC 2104), which costs as much to make ready as a short message to authenticate.
pub(crate) struct MacKey(hmac::Key);

impl MacKey {
    pub(crate) fn new(key: &[u8]) -> MacKey {
        MacKey(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub(crate) fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.0, message).as_ref());
        out
    }
}

/// HMAC-SHA256 with a key that is used once.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    MacKey::new(key).mac(message)
}

/// Octets of the system's randomness; none if the system has none to give.
pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut out = [0; N];
    rand::SystemRandom::new().fill(&mut out).ok()?;
    Some(out)
}

/// Octets that nobody else may know: never printed, wiped at the end.
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A copy of `octets`; the caller's own are the caller's to wipe.
    pub(crate) fn new(octets: &[u8]) -> Secret {
        Secret(Zeroizing::new(octets.to_vec()))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Whether two hashes are equal, in time that does not depend on where they differ.
#[must_use]
pub fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    // Word by word, and one comparison at the end: octet by octet costs 400 instructions on the hot path.
    let (a, _) = a.as_chunks::<8>();
    let (b, _) = b.as_chunks::<8>();
    let words = a.iter().zip(b);
    let different = words.fold(0, |acc, (a, b)| acc | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)));
    different.ct_eq(&0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sees_a_difference_in_every_octet() {
        let a = sha256(b"a");
        assert!(equal(&a, &a.clone()));
        for i in 0..32 {
            let mut b = a;
            b[i] ^= 1;
            assert!(!equal(&a, &b), "octet {i}");
        }
    }

    #[test]
    fn fips180_4_the_hashes_of_abc_are_those_of_the_standard() {
        let hex = |octets: &[u8]| octets.iter().map(|o| format!("{o:02x}")).collect::<String>();
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            hex(&sha384(b"abc")),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        );
        assert_eq!(
            hex(&sha512(b"abc")),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }

    #[test]
    fn rfc4231_4_a_hmac_sha256_gives_the_values_of_the_rfc() {
        let hex = |octets: [u8; 32]| octets.map(|o| format!("{o:02x}")).concat();
        assert_eq!(
            hex(hmac_sha256(&[0x0b; 20], b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn two_draws_of_randomness_differ() {
        assert_ne!(random::<16>().expect("randomness"), random::<16>().expect("randomness"));
    }

    #[test]
    fn rfc7518_3_3_a_rsa_below_2048_bits_is_refused() {
        let mut n = [0xffu8; 256];
        assert!(PublicKey::rsa(&n, &[1, 0, 1]).is_ok());
        n[0] = 0x7f;
        assert_eq!(PublicKey::rsa(&n, &[1, 0, 1]).err(), Some(KeyError::ModulusSize));
        assert_eq!(PublicKey::rsa(&[0xff; 1025], &[1, 0, 1]).err(), Some(KeyError::ModulusSize));
    }

    #[test]
    fn rsa_exponents_below_65537_or_even_are_refused() {
        let n = [0xffu8; 256];
        for e in [&[][..], &[3], &[17], &[1, 1], &[255, 255], &[1, 0, 0], &[1, 0, 2], &[1; 9]] {
            assert_eq!(PublicKey::rsa(&n, e).err(), Some(KeyError::Exponent), "{e:?}");
        }
    }

    #[test]
    fn an_algorithm_name_is_compared_by_code_point() {
        assert_eq!(Algorithm::from_name("ES256"), Some(Algorithm::Es256));
        assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::EdDsa));
        for name in ["none", "None", "HS256", "es256", "ES256 ", "", "RSA-OAEP"] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }
}
