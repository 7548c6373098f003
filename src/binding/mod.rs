//! Proof of possession: what a token's `cnf` says, and whether the request holds to it, by the certificate of its connection (RFC 8705 §3)
//! or by a DPoP proof (RFC 9449).

pub(crate) mod dpop;

use crate::cert::{Identity, Thumbprint};
use crate::jose::json::{Object, Value};
use crate::reason::Reason;

/// `proof_of_possession_mtls`, `proof_of_possession_dpop`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every token must be bound this way.
    Strict,
    /// A token may be unbound; one that is bound this way must hold to it.
    Optional,
    /// A binding of this kind is not checked.
    Off,
}

/// What is asked of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `proof_of_possession_mtls`
    pub mtls: Mode,
    /// `proof_of_possession_dpop`
    pub dpop: Mode,
    /// `proof_of_possession_either`: of two strict modes, one is enough
    pub either: bool,
}

impl Policy {
    /// Whether `cnf` is not looked at.
    pub fn is_off(&self) -> bool {
        self.mtls == Mode::Off && self.dpop == Mode::Off
    }

    /// Whether a token that came with the scheme `Bearer` can pass: one that is bound to a key cannot.
    pub fn accepts_bearer(&self) -> bool {
        self.dpop != Mode::Strict || self.either
    }

    /// Whether who has no certificate, and proves nothing else, can pass.
    pub(crate) fn admits_unproved(&self) -> bool {
        self.mtls == Mode::Optional && self.dpop != Mode::Strict
    }

    /// Whether only tokens pass that are bound to the connection's certificate.
    pub fn requires_certificate(&self) -> bool {
        self.mtls == Mode::Strict && !self.either
    }
}

/// How a token was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750 §2.1
    Bearer,
    /// RFC 9449 §7.1
    Dpop,
}

/// What the `cnf` claim binds a token to (RFC 7800 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// There is no `cnf`.
    Unbound,
    /// It is bound.
    Bound {
        /// `x5t#S256` (RFC 8705 §3.1)
        certificate: Option<Thumbprint>,
        /// `jkt` (RFC 9449 §6.1)
        key: Option<Thumbprint>,
    },
    /// Something is there that cannot be checked: it must not be taken for nothing.
    Refused(Reason),
}

impl Confirmation {
    /// Reads the `cnf` of a token's claims or of an introspection response. The one parser for all of them.
    pub fn of_claims(claims: &Object<'_>) -> Confirmation {
        match claims.get("cnf") {
            None => Confirmation::Unbound,
            Some(cnf) => Self::of_cnf(cnf),
        }
    }

    /// Reads the value of a `cnf` member.
    pub fn of_cnf(cnf: &Value<'_>) -> Confirmation {
        let Some(cnf) = cnf.as_object().filter(|cnf| !cnf.is_empty()) else {
            return Confirmation::Refused(Reason::ConfirmationMalformed);
        };
        let (mut certificate, mut key) = (None, None);
        for (name, value) in cnf.iter() {
            let place = match name {
                "x5t#S256" => &mut certificate,
                "jkt" => &mut key,
                _ => return Confirmation::Refused(Reason::ConfirmationUnsupported),
            };
            *place = value.as_str().and_then(Thumbprint::parse);
            if place.is_none() {
                return Confirmation::Refused(Reason::ConfirmationMalformed);
            }
        }
        Confirmation::Bound { certificate, key }
    }

    /// What holds where two sources speak of one token: the bindings that either knows.
    ///
    /// # Errors
    /// They bind it to different keys.
    pub(crate) fn and(self, other: Confirmation) -> Result<Confirmation, Reason> {
        let one = |a: Option<Thumbprint>, b: Option<Thumbprint>| match (a, b) {
            (Some(a), Some(b)) if a != b => Err(Reason::ConfirmationMalformed),
            (a, b) => Ok(a.or(b)),
        };
        match (self, other) {
            (Confirmation::Unbound, confirmation) | (confirmation, Confirmation::Unbound) => Ok(confirmation),
            (refused @ Confirmation::Refused(_), _) | (_, refused @ Confirmation::Refused(_)) => Ok(refused),
            (
                Confirmation::Bound { certificate, key },
                Confirmation::Bound { certificate: other_certificate, key: other_key },
            ) => {
                Ok(Confirmation::Bound { certificate: one(certificate, other_certificate)?, key: one(key, other_key)? })
            }
        }
    }

    /// The certificate that the token is bound to.
    pub(crate) fn certificate(&self) -> Option<&Thumbprint> {
        match self {
            Confirmation::Bound { certificate, .. } => certificate.as_ref(),
            Confirmation::Unbound | Confirmation::Refused(_) => None,
        }
    }

    /// The key that the token is bound to.
    pub(crate) fn key(&self) -> Option<&Thumbprint> {
        match self {
            Confirmation::Bound { key, .. } => key.as_ref(),
            Confirmation::Unbound | Confirmation::Refused(_) => None,
        }
    }
}

/// The proof that the binding of one token was checked for one request. Nothing is allowed without it.
#[must_use]
#[derive(Debug)]
pub struct Bound(());

/// What [`check`] found.
#[must_use]
#[derive(Debug)]
pub(crate) enum Held {
    /// All of it.
    Bound(Bound),
    /// All but the key, of which there has to be a proof.
    ToProve(Thumbprint),
}

impl Held {
    /// Without a proof.
    pub(crate) fn bound(self) -> Result<Bound, Reason> {
        match self {
            Held::Bound(bound) => Ok(bound),
            Held::ToProve(_) => Err(Reason::ProofMissing),
        }
    }
}

/// Checks how a token is bound, and was sent, and whether the connection's certificate is the one, by the configured modes.
///
/// # Errors
/// The reason of the refusal.
// With the scheme known where it is called, the hot path is shorter.
#[inline(always)]
pub(crate) fn check(
    policy: Policy,
    scheme: Scheme,
    confirmation: &Confirmation,
    certificate: Option<&Identity>,
) -> Result<Held, Reason> {
    if policy.is_off() {
        return Ok(Held::Bound(Bound(())));
    }
    if let Confirmation::Refused(reason) = confirmation {
        return Err(*reason);
    }
    let (bound, key) = (confirmation.certificate(), confirmation.key());
    // What is not checked is not taken for nothing.
    if (bound.is_some() && policy.mtls == Mode::Off) || (key.is_some() && policy.dpop == Mode::Off) {
        return Err(Reason::ConfirmationUnsupported);
    }
    match (scheme, key) {
        (Scheme::Bearer, Some(_)) => return Err(Reason::DpopSchemeRequired),
        (Scheme::Dpop, None) => return Err(Reason::TokenNotDpopBound),
        (Scheme::Bearer, None) | (Scheme::Dpop, Some(_)) => {}
    }
    let is_enough = policy.either && (bound.is_some() || key.is_some());
    if !is_enough && policy.mtls == Mode::Strict && bound.is_none() {
        return Err(Reason::TokenUnbound);
    }
    if !is_enough && policy.dpop == Mode::Strict && key.is_none() {
        return Err(Reason::TokenNotDpopBound);
    }
    if let Some(bound) = bound {
        let held = certificate.ok_or(Reason::CertificateMissing)?;
        if !bound.matches(&held.thumbprint) {
            return Err(Reason::CertificateMismatch);
        }
    }
    Ok(key.map_or(Held::Bound(Bound(())), |key| Held::ToProve(*key)))
}

/// What can be told of a request before its token is asked about: whatever the token turns out to be, it does not pass.
///
/// # Errors
/// The reason of the refusal.
pub(crate) fn foresee(policy: Policy, scheme: Scheme, certificate: Option<&Identity>) -> Result<(), Reason> {
    // Of two, a certificate is the one that is left to `Bearer`.
    let needs_certificate = policy.requires_certificate() || (policy.either && scheme == Scheme::Bearer);
    if needs_certificate && certificate.is_none() {
        return Err(Reason::CertificateMissing);
    }
    if scheme == Scheme::Bearer && !policy.accepts_bearer() {
        return Err(Reason::DpopSchemeRequired);
    }
    Ok(())
}

/// Checks what a session is bound to against the connection's certificate. Its token is the gateway's, and bound to that if to anything.
///
/// # Errors
/// The reason of the refusal.
pub(crate) fn check_session(bound_to: Option<&Thumbprint>, certificate: Option<&Identity>) -> Result<Bound, Reason> {
    match (bound_to, certificate) {
        (None, _) => Ok(Bound(())),
        (Some(_), None) => Err(Reason::SessionCertificateMissing),
        (Some(bound), Some(held)) if bound.matches(&held.thumbprint) => Ok(Bound(())),
        (Some(_), Some(_)) => Err(Reason::SessionCertificateMismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::json;

    const OWN: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

    fn confirmation(claims: &str) -> Confirmation {
        Confirmation::of_claims(&json::parse_object(claims.as_bytes()).expect("JSON"))
    }

    #[test]
    fn rfc8705_3_1_a_only_the_exact_member_binds() {
        assert_eq!(
            confirmation(&format!(r#"{{"cnf":{{"x5t#S256":"{OWN}"}}}}"#)),
            Confirmation::Bound { certificate: Thumbprint::parse(OWN), key: None }
        );
        for name in ["x5t", "x5t#s256", "X5T#S256", "x5t#S512", "JKT", "jwk", "kid", ""] {
            assert_eq!(
                confirmation(&format!(r#"{{"cnf":{{"{name}":"{OWN}"}}}}"#)),
                Confirmation::Refused(Reason::ConfirmationUnsupported),
                "{name}"
            );
        }
        assert_eq!(confirmation(&format!(r#"{{"cnf.x5t#S256":"{OWN}","x5t#S256":"{OWN}"}}"#)), Confirmation::Unbound);
    }

    #[test]
    fn rfc8705_3_g_a_second_member_is_never_ignored() {
        for other in [r#""jwk":{}"#, r#""kid":"x""#, r#""new":1"#] {
            for cnf in [format!(r#""x5t#S256":"{OWN}",{other}"#), format!(r#"{other},"x5t#S256":"{OWN}""#)] {
                assert_eq!(
                    confirmation(&format!(r#"{{"cnf":{{{cnf}}}}}"#)),
                    Confirmation::Refused(Reason::ConfirmationUnsupported)
                );
            }
        }
    }

    #[test]
    fn rfc8705_3_1_b_wrong_types_and_wrong_encodings_are_malformed() {
        let padded = format!("\"{OWN}=\"");
        let long = format!("\"{OWN}A\"");
        let stray_bits = format!("\"{}1\"", &OWN[..42]);
        let standard_alphabet = format!("\"{}\"", OWN.replace('L', "+"));
        for value in ["null", "1", "true", "[]", "{}", "\"\"", "\"x\"", &padded, &long, &stray_bits, &standard_alphabet]
        {
            assert_eq!(
                confirmation(&format!(r#"{{"cnf":{{"x5t#S256":{value}}}}}"#)),
                Confirmation::Refused(Reason::ConfirmationMalformed),
                "{value}"
            );
        }
        for cnf in ["null", "{}", "[]", "\"x\"", "1", "false"] {
            assert_eq!(
                confirmation(&format!(r#"{{"cnf":{cnf}}}"#)),
                Confirmation::Refused(Reason::ConfirmationMalformed),
                "{cnf}"
            );
        }
    }

    #[test]
    fn rfc9449_7_1_a_what_is_still_to_be_proved_is_not_bound() {
        let key = Thumbprint::parse(OWN).expect("43 characters");
        assert_eq!(Held::ToProve(key).bound().err(), Some(Reason::ProofMissing));
        assert!(Held::Bound(Bound(())).bound().is_ok());
    }
}
