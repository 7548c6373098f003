//! Proof of possession by a DPoP proof: RFC 9449 §4.3, check by check.

mod nonce;
pub(crate) mod uri;

use crate::cert::Thumbprint;
use crate::crypto::{self, Algorithm, PublicKey};
use crate::jose::json::{self, Object, Value};
use crate::jose::jws::{Compact, Header, Type};
use crate::jose::{b64, claims, jwk};
use crate::reason::Reason;
use crate::steps::Refusal;
pub(crate) use nonce::Nonces;

use super::Bound;

/// Largest proof, in bytes: one with an RSA key of 8192 bits and its signature has 3,500.
pub(crate) const MAX_PROOF: usize = 4096;
/// Longest `jti`, in bytes; of a UUID it has 36.
const MAX_JTI: usize = 256;

/// What every proof is held to.
pub(crate) struct Proofs {
    /// `dpop_algorithms`
    pub(crate) algorithms: Vec<Algorithm>,
    /// `dpop_proof_lifetime`, in seconds
    pub(crate) lifetime: i64,
    /// `dpop_proof_leeway`, in seconds
    pub(crate) leeway: i64,
    /// With `dpop_use_nonce`
    pub(crate) nonces: Option<Nonces>,
}

/// What of a request a proof is held against.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    /// The `DPoP` header
    pub(crate) proof: &'a [u8],
    /// How many of them came
    pub(crate) count: u32,
    /// The method of the request
    pub(crate) method: &'a [u8],
    /// The public URI of the request, in normal form
    pub(crate) uri: &'a str,
    /// The access token
    pub(crate) token: &'a [u8],
    /// Unix seconds
    pub(crate) now: i64,
    /// When this very request used this very proof before, Unix seconds
    pub(crate) passed: Option<i64>,
}

/// A proof for this request and this token. That it is the token's holder's is still to be seen.
pub(crate) struct Offered {
    algorithm: Algorithm,
    key: PublicKey,
    thumbprint: Thumbprint,
    signed: Box<[u8]>,
    signature: Vec<u8>,
    jti: Box<str>,
    /// Until when it is accepted, Unix seconds, that second included
    until: i64,
    /// Whether its nonce should be replaced soon.
    is_ageing: bool,
    /// The time that it was held against, Unix seconds
    when: i64,
    /// Whether this very request used it before
    has_passed: bool,
}

/// A proof by the very key that the token is bound to. Whether it was used before is still to be seen.
#[must_use]
pub(crate) struct Proved<'a>(&'a Offered);

/// What is known of earlier uses of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// There was none, and nobody will find none again.
    First,
    /// There was one.
    Again,
    /// That cannot be told.
    Unknown,
    /// The operator does not want to know (`insecure_dpop_replay`).
    Ignored,
}

impl Proofs {
    /// Checks 1 to 12 in their order, but for the signature (6) and the key (the second half of 12), which [`Offered::prove`] checks: what costs
    /// as much as a signature comes last.
    ///
    /// # Errors
    /// The check that failed.
    pub(crate) fn read(&self, given: &Given<'_>) -> Result<Offered, Refusal> {
        let text = one_header(given.proof, given.count)?;
        let (parts, header, payload) = well_formed(text)?;
        let header = json::parse_object(&header).map_err(|_| Reason::ProofMalformed)?;
        let payload = json::parse_object(&payload).map_err(|_| Reason::ProofMalformed)?;
        let claims = Claims::of(&payload)?;
        is_proof(&header)?;
        let algorithm = self.algorithm(&header)?;
        let (key, thumbprint) = public_key(&header, algorithm)?;
        method(&claims, given.method)?;
        same_uri(&claims, given.uri)?;
        // However long the upstream took, after which nginx redirects the request internally.
        let when = given.passed.unwrap_or(given.now);
        let made = self.nonce(&claims, when)?;
        let until = self.created(&claims, made, when)?;
        of_token(&claims, given.token)?;
        Ok(Offered {
            algorithm,
            key,
            thumbprint,
            signed: parts.signed.into(),
            signature: b64::decode(parts.signature).ok_or(Reason::ProofMalformed)?,
            jti: claims.jti.into(),
            until,
            is_ageing: made.is_some() && until.saturating_sub(given.now) <= self.lifetime.div_euclid(2),
            when,
            has_passed: given.passed.is_some(),
        })
    }

    /// Check 5: the algorithm is an asymmetric one of the operator's list. There is no other kind in this library.
    fn algorithm(&self, header: &Object<'_>) -> Result<Algorithm, Reason> {
        let name = header.get("alg").and_then(Value::as_str).ok_or(Reason::ProofMalformed)?;
        let algorithm = Algorithm::from_name(name).filter(|algorithm| self.algorithms.contains(algorithm));
        algorithm.ok_or(Reason::ProofAlgorithmRefused)
    }

    /// Check 10: where nonces are asked for, the proof has one of ours that is still good. When that was made.
    fn nonce(&self, claims: &Claims<'_>, now: i64) -> Result<Option<i64>, Reason> {
        let Some(nonces) = &self.nonces else {
            return Ok(None);
        };
        let nonce = claims.nonce.ok_or(Reason::ProofNonceMissing)?;
        let made = nonces.time(nonce).ok_or(Reason::ProofNonceInvalid)?;
        // Another node's clock may be ahead.
        let is_good = now <= made.saturating_add(self.lifetime) && made <= now.saturating_add(self.leeway);
        if is_good { Ok(Some(made)) } else { Err(Reason::ProofNonceInvalid) }
    }

    /// Check 11: the proof was made within the window, by its own clock, or by ours where it has a nonce. When the window ends.
    fn created(&self, claims: &Claims<'_>, made: Option<i64>, now: i64) -> Result<i64, Refusal> {
        if let Some(made) = made {
            return Ok(made.saturating_add(self.lifetime));
        }
        let age = now.saturating_sub(claims.iat);
        if age > self.lifetime {
            return Err(Refusal::new(Reason::ProofExpired, format!("it is {age} seconds old")));
        }
        if age < self.leeway.saturating_neg() {
            let ahead = age.saturating_neg();
            return Err(Refusal::new(Reason::ProofIssuedInFuture, format!("it is {ahead} seconds ahead")));
        }
        Ok(claims.iat.saturating_add(self.lifetime))
    }
}

/// Check 1: there is one `DPoP` header, and not more. A proxy may have joined two.
fn one_header(proof: &[u8], count: u32) -> Result<&[u8], Reason> {
    match count {
        0 => Err(Reason::ProofMissing),
        1 if !proof.contains(&b',') => Ok(proof),
        _ => Err(Reason::ProofRepeated),
    }
}

/// Check 2: it is one well-formed JWT. Its parts, and header and payload decoded.
fn well_formed(text: &[u8]) -> Result<(Compact<'_>, Vec<u8>, Vec<u8>), Reason> {
    if text.len() > MAX_PROOF {
        return Err(Reason::ProofMalformed);
    }
    let parts = Compact::parts(text).map_err(|_| Reason::ProofMalformed)?;
    match (b64::decode(parts.header), b64::decode(parts.payload)) {
        (Some(header), Some(payload)) => Ok((parts, header, payload)),
        _ => Err(Reason::ProofMalformed),
    }
}

/// The claims of a proof.
struct Claims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: i64,
    ath: &'a str,
    nonce: Option<&'a str>,
}

impl<'a> Claims<'a> {
    /// Check 3: all claims of §4.2 are there, and of the right type.
    fn of(claims: &'a Object<'_>) -> Result<Claims<'a>, Reason> {
        let malformed = |_| Reason::ProofMalformed;
        let text = |name| claims::text(claims, name).map_err(malformed);
        let required = |name| text(name)?.filter(|text| !text.is_empty()).ok_or(Reason::ProofMalformed);
        let jti: &str = required("jti")?;
        if jti.len() > MAX_JTI {
            return Err(Reason::ProofMalformed);
        }
        Ok(Claims {
            jti,
            htm: required("htm")?,
            htu: required("htu")?,
            iat: claims::date(claims, "iat").map_err(malformed)?.ok_or(Reason::ProofMalformed)?,
            ath: required("ath")?,
            nonce: text("nonce")?,
        })
    }
}

/// Check 4: `typ` says that it is a proof, and no other kind of JWT (§11.5). Nothing in the header makes it another than it seems.
fn is_proof(header: &Object<'_>) -> Result<(), Reason> {
    match header.get("typ") {
        Some(Value::Str(typ)) if Type::of(Some(typ)) == Type::Proof => {}
        _ => return Err(Reason::ProofTypeRefused),
    }
    if Header::is_plain(header) { Ok(()) } else { Err(Reason::ProofMalformed) }
}

/// Check 7: `jwk` is a public key, with nothing private in it, for this algorithm. The key, and its thumbprint (RFC 7638).
fn public_key(header: &Object<'_>, algorithm: Algorithm) -> Result<(PublicKey, Thumbprint), Reason> {
    let jwk = header.get("jwk").and_then(Value::as_object).ok_or(Reason::ProofKeyRefused)?;
    let (key, thumbprint) = jwk::of_proof(jwk, algorithm).map_err(|_| Reason::ProofKeyRefused)?;
    Ok((key, Thumbprint(thumbprint)))
}

/// Check 8: `htm` is the method of the request, letter by letter (RFC 9110 §9.1).
fn method(claims: &Claims<'_>, method: &[u8]) -> Result<(), Reason> {
    if claims.htm.as_bytes() == method { Ok(()) } else { Err(Reason::ProofMethodMismatch) }
}

/// Check 9: `htu` is the URI of the request, both in normal form, without query and fragment.
fn same_uri(claims: &Claims<'_>, expected: &str) -> Result<(), Refusal> {
    if uri::normal(claims.htu).is_some_and(|htu| htu == expected) {
        return Ok(());
    }
    Err(Refusal::new(Reason::ProofUriMismatch, format!("the request was for {expected}")))
}

/// Check 12, first half: `ath` is the hash of the access token.
fn of_token(claims: &Claims<'_>, token: &[u8]) -> Result<(), Reason> {
    let hash = b64::decode_sha256(claims.ath).ok_or(Reason::ProofMalformed)?;
    if crypto::equal(&hash, &crypto::sha256(token)) { Ok(()) } else { Err(Reason::ProofTokenMismatch) }
}

impl Offered {
    /// What it is known by: the thumbprint of its key, and `jti`.
    pub(crate) fn name(&self) -> [&[u8]; 2] {
        [&self.thumbprint.0, self.jti.as_bytes()]
    }

    /// Check 12, second half: the key of the proof is the one that the token is bound to. A comparison, which the signature can wait for.
    pub(crate) fn check_key(&self, bound: &Thumbprint) -> Result<(), Reason> {
        if self.thumbprint.matches(bound) { Ok(()) } else { Err(Reason::ProofKeyMismatch) }
    }

    /// Check 6: the signature is that of the key in the header, which is the one that the token is bound to.
    pub(crate) fn prove(&self, bound: &Thumbprint) -> Result<Proved<'_>, Reason> {
        self.check_key(bound)?;
        if !self.key.verify(self.algorithm, &self.signed, &self.signature) {
            return Err(Reason::ProofSignatureInvalid);
        }
        Ok(Proved(self))
    }
}

impl Proved<'_> {
    /// [`Offered::name`]
    pub(crate) fn name(&self) -> [&[u8]; 2] {
        self.0.name()
    }

    /// The time that it was held against, Unix seconds.
    pub(crate) fn when(&self) -> i64 {
        self.0.when
    }

    /// For how long it is accepted, in seconds.
    pub(crate) fn rest(&self, now: i64) -> i64 {
        self.0.until.saturating_sub(now).max(0)
    }

    /// Whether its time ended while the request was decided about: then nobody may know of its use any more.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        now > self.0.until && !self.0.has_passed
    }

    /// Whether its nonce should be replaced soon.
    pub(crate) fn is_ageing(&self) -> bool {
        self.0.is_ageing
    }

    /// §11.1: a proof is good for one request. Only now nothing is left to be checked.
    pub(crate) fn bound(&self, used: Use) -> Result<Bound, Reason> {
        match used {
            Use::First | Use::Ignored => Ok(Bound(())),
            Use::Again => Err(Reason::ProofReplayed),
            Use::Unknown => Err(Reason::StoreUnavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 9449 §7.1, with the key of figure 9.
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    const NOW: i64 = 1_562_262_618;

    fn read(count: u32, nonces: Option<Nonces>) -> Result<Offered, Reason> {
        let proofs = Proofs { algorithms: vec![Algorithm::Es256], lifetime: 60, leeway: 5, nonces };
        let given = Given {
            proof: PROOF.as_bytes(),
            count,
            method: b"GET",
            uri: "https://resource.example.org/protectedresource",
            token: b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
            now: NOW,
            passed: None,
        };
        proofs.read(&given).map_err(|refusal| refusal.reason)
    }

    fn key(jkt: &str) -> Thumbprint {
        Thumbprint::parse(jkt).expect("43 characters")
    }

    #[test]
    fn rfc9449_4_3_12b_nothing_is_proved_for_another_key() {
        let offered = read(1, None).unwrap_or_else(|reason| panic!("{reason:?}"));
        let proved = offered.prove(&key(JKT)).unwrap_or_else(|reason| panic!("{reason:?}"));
        assert_eq!(proved.name(), [&key(JKT).0[..], b"e1j3V_bKic8-LAEB"]);
        assert_eq!((proved.rest(NOW), proved.is_ageing()), (60, false));
        let other = key("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
        assert_eq!(offered.check_key(&other).err(), Some(Reason::ProofKeyMismatch));
        assert_eq!(offered.prove(&other).err(), Some(Reason::ProofKeyMismatch));
    }

    #[test]
    fn rfc9449_4_3_1_none_is_missing_and_two_are_one_too_many() {
        assert!(read(1, None).is_ok());
        assert_eq!(read(0, None).err(), Some(Reason::ProofMissing));
        assert_eq!(read(2, None).err(), Some(Reason::ProofRepeated));
    }

    #[test]
    fn rfc9449_11_1_a_use_is_bound_to_what_the_store_knows() {
        let offered = read(1, None).unwrap_or_else(|reason| panic!("{reason:?}"));
        let proved = offered.prove(&key(JKT));
        let proved = proved.unwrap_or_else(|reason| panic!("{reason:?}"));
        assert!(proved.bound(Use::First).is_ok() && proved.bound(Use::Ignored).is_ok());
        assert_eq!(proved.bound(Use::Again).err(), Some(Reason::ProofReplayed));
        assert_eq!(proved.bound(Use::Unknown).err(), Some(Reason::StoreUnavailable));
    }
}
