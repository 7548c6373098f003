//! Layer 1: thumbprints and confirmations.

use super::guard::guarded;
use super::{
    KB_E_ARGUMENT, KB_E_CERTIFICATE, KB_E_KEY, KB_E_NULL, KB_E_PANIC, KB_THUMBPRINT_SIZE, bytes, certificate, write,
};
use crate::binding::{self, Confirmation, Held, Mode, Policy, Scheme};
use crate::cert::{ClientCertificate, Identity, Thumbprint};
use crate::jose::json;
use crate::jose::jwk;
use crate::reason::Reason;

pub(super) fn terminated(thumbprint: &[u8]) -> Option<[u8; KB_THUMBPRINT_SIZE]> {
    let mut text = [0; KB_THUMBPRINT_SIZE];
    text.get_mut(..thumbprint.len())?.copy_from_slice(thumbprint);
    Some(text)
}

fn thumbprint_of(certificate: ClientCertificate<'_>) -> Result<Thumbprint, i32> {
    match certificate.der() {
        Ok(Some(der)) => Ok(Thumbprint::of_der(&der)),
        Ok(None) => Err(KB_E_ARGUMENT),
        Err(_) => Err(KB_E_CERTIFICATE),
    }
}

/// The SHA-256 thumbprint of a certificate, as in `x5t#S256` (RFC 8705 §3.1). The certificate is not parsed: its exact bytes are hashed.
///
/// # Arguments
/// - `cert`, `cert_len`: the certificate, at most 16 KiB of DER
/// - `form`: `KB_CERT_DER` or `KB_CERT_PEM`
/// - `out`: `KB_THUMBPRINT_SIZE` bytes, filled with 43 characters of base64url and a NUL
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: an unknown form; `KB_E_CERTIFICATE`: too large, or not exactly one certificate.
///
/// # Safety
/// `cert` has `cert_len` readable bytes, `out` has room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_certificate_thumbprint(
    cert: *const u8,
    cert_len: usize,
    form: u32,
    out: *mut [u8; KB_THUMBPRINT_SIZE],
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let thumbprint = unsafe { certificate(cert, cert_len, form) }.and_then(thumbprint_of);
        match thumbprint.map(|t| terminated(&t.to_base64url())) {
            // SAFETY: the caller's.
            Ok(Some(text)) => unsafe { write(out, text) },
            Ok(None) => KB_E_PANIC,
            Err(status) => status,
        }
    })
}

/// The SHA-256 thumbprint of a public key (RFC 7638), as in `jkt`.
///
/// # Arguments
/// - `jwk`, `jwk_len`: an RSA, EC or Ed25519 key as JSON
/// - `out`: `KB_THUMBPRINT_SIZE` bytes, filled with 43 characters of base64url and a NUL
///
/// # Errors
/// `KB_E_NULL`; `KB_E_KEY`: not a usable public key.
///
/// # Safety
/// `jwk` has `jwk_len` readable bytes, `out` has room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_jwk_thumbprint(jwk: *const u8, jwk_len: usize, out: *mut [u8; KB_THUMBPRINT_SIZE]) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(jwk) = (unsafe { bytes(jwk, jwk_len) }) else {
            return KB_E_NULL;
        };
        let Ok(thumbprint) = jwk::thumbprint(jwk) else {
            return KB_E_KEY;
        };
        match terminated(thumbprint.as_bytes()) {
            // SAFETY: the caller's.
            Some(text) => unsafe { write(out, text) },
            None => KB_E_PANIC,
        }
    })
}

/// Whether a `cnf` claim is that of a certificate (RFC 8705 §3.1), compared in constant time.
///
/// # Arguments
/// - `cnf`, `cnf_len`: the value of the claim as JSON, from a token or an introspection response that was verified; NULL: the token has none
/// - `cert`, `cert_len`, `form`: the certificate of the connection; NULL with `KB_CERT_NONE`: there is none
/// - `reason`: `KB_REASON_ALLOWED` if they match, else the reason of the refusal
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: an unknown form; `KB_E_CERTIFICATE`: too large, or not exactly one certificate.
///
/// # Safety
/// `cnf` has `cnf_len` readable bytes, `cert` has `cert_len`, `reason` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_confirmation_match(
    cnf: *const u8,
    cnf_len: usize,
    cert: *const u8,
    cert_len: usize,
    form: u32,
    reason: *mut u32,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let confirmation = match unsafe { bytes(cnf, cnf_len) } {
            None => Confirmation::Unbound,
            Some(cnf) => match json::parse(cnf) {
                Ok(cnf) => Confirmation::of_cnf(&cnf),
                Err(_) => Confirmation::Refused(Reason::ConfirmationMalformed),
            },
        };
        // SAFETY: the caller's.
        let identity = match unsafe { certificate(cert, cert_len, form) } {
            Ok(ClientCertificate::Absent) => None,
            Ok(certificate) => match thumbprint_of(certificate) {
                Ok(thumbprint) => Some(Identity { thumbprint, validity: None }),
                Err(status) => return status,
            },
            Err(status) => return status,
        };
        let policy = Policy { mtls: Mode::Strict, dpop: Mode::Off, either: false };
        let held = binding::check(policy, Scheme::Bearer, &confirmation, identity.as_ref());
        let decision = match held.and_then(Held::bound) {
            Ok(_bound) => Reason::Allowed,
            Err(refusal) => refusal,
        };
        // SAFETY: the caller's.
        unsafe { write(reason, decision as u32) }
    })
}
