//! Proof of possession by certificate (RFC 8705 §3): what a token's `cnf` says, and whether the connection holds to it.

use crate::cert::{Identity, Thumbprint};
use crate::jose::json::{Object, Value};
use crate::reason::Reason;

/// `proof_of_possession_mtls`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every token must be bound, and to the certificate of the connection.
    Strict,
    /// A token may be unbound; one with a `cnf` must hold to it.
    Optional,
    /// `cnf` is not looked at.
    Off,
}

/// What the `cnf` claim binds a token to (RFC 7800 §3, RFC 8705 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// There is no `cnf`.
    Unbound,
    /// `x5t#S256`, and nothing else.
    Certificate(Thumbprint),
    /// Something is there that does not bind to a certificate: a binding that this cannot check must not be taken for none.
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
        if cnf.iter().any(|(name, _)| name != "x5t#S256") {
            return Confirmation::Refused(Reason::ConfirmationUnsupported);
        }
        let thumbprint = cnf.get("x5t#S256").and_then(Value::as_str).and_then(Thumbprint::parse);
        match thumbprint {
            Some(thumbprint) => Confirmation::Certificate(thumbprint),
            None => Confirmation::Refused(Reason::ConfirmationMalformed),
        }
    }
}

/// The proof that the binding of one token was checked for one request. Only [`check`] makes it, and nothing is allowed without it.
#[must_use]
#[derive(Debug)]
pub struct Bound(());

/// Checks a token's binding against the connection's certificate, by the configured mode.
///
/// # Errors
/// The reason of the refusal.
pub fn check(mode: Mode, confirmation: &Confirmation, certificate: Option<&Identity>) -> Result<Bound, Reason> {
    match (mode, confirmation) {
        (Mode::Off, _) | (Mode::Optional, Confirmation::Unbound) => Ok(Bound(())),
        (Mode::Strict, Confirmation::Unbound) => Err(Reason::TokenUnbound),
        (Mode::Strict | Mode::Optional, Confirmation::Refused(reason)) => Err(*reason),
        (Mode::Strict | Mode::Optional, Confirmation::Certificate(bound)) => {
            let held = certificate.ok_or(Reason::CertificateMissing)?;
            if bound.matches(&held.thumbprint) { Ok(Bound(())) } else { Err(Reason::CertificateMismatch) }
        }
    }
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
            Confirmation::Certificate(Thumbprint::parse(OWN).expect("valid"))
        );
        for name in ["x5t", "x5t#s256", "X5T#S256", "x5t#S512", "jkt", "jwk", "kid", ""] {
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
        for other in [r#""jkt":"x""#, r#""jkt":null"#, r#""new":1"#] {
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
}
