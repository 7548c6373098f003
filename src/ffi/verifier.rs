//! Layer 2: the verifier.

use super::guard::guarded;
use super::{KB_E_ARGUMENT, KB_E_NULL, KB_E_PANIC, bytes, certificate, free_handle, kb_str, new_handle, write};
use crate::engine::Verifier;
use crate::reason::Reason;

/// Decides about a token and a certificate. Immutable; may be used by several threads at once.
pub struct kb_verifier(Verifier);

/// The claims of a verified token.
pub struct kb_claims(Vec<u8>);

/// Makes a verifier.
///
/// # Arguments
/// - `config`, `config_len`: the configuration as JSON (docs/configuration.md)
/// - `verifier`: receives the handle
/// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_CONFIG`, cut to fit, not NUL-terminated; may be NULL
/// - `errbuf_len`: receives the whole length of the message; may be NULL
///
/// # Returns
/// `KB_OK`; free the handle with `kb_verifier_free()`.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_CONFIG`.
///
/// # Safety
/// `config` has `config_len` readable bytes, `errbuf` has `errbuf_cap` writable ones, `verifier` and `errbuf_len` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_verifier_new(
    config: *const u8,
    config_len: usize,
    verifier: *mut *mut kb_verifier,
    errbuf: *mut u8,
    errbuf_cap: usize,
    errbuf_len: *mut usize,
) -> i32 {
    let new = |config: &[u8]| Verifier::new(config).map(kb_verifier);
    // SAFETY: the caller's.
    unsafe { new_handle((config, config_len), verifier, (errbuf, errbuf_cap, errbuf_len), new) }
}

/// Frees a verifier. NULL does nothing.
///
/// # Safety
/// `verifier` is NULL, or came from `kb_verifier_new()`, is not freed yet and not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_verifier_free(verifier: *mut kb_verifier) {
    // SAFETY: the caller's.
    unsafe { free_handle(verifier) };
}

/// Verifies a token against a certificate: signature, claims, binding (RFC 9068 §4, RFC 8705 §3). How the token was sent is not looked at.
///
/// # Arguments
/// - `verifier`: the verifier
/// - `token`, `token_len`: the access token, without scheme
/// - `cert`, `cert_len`, `form`: the certificate of the connection; NULL with `KB_CERT_NONE`: there is none
/// - `now_s`: Unix time, seconds; greater than 0
/// - `reason`: `KB_REASON_ALLOWED`, or the reason of the refusal
/// - `claims`: receives the claims of an allowed token, NULL otherwise; may be NULL if they are not wanted
///
/// # Returns
/// `KB_OK` if a decision was made: read it from `reason`. Free the claims with `kb_claims_free()`.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: an unknown form, or `now_s` is not set.
///
/// # Safety
/// The pointers have the given lengths; `reason` is writable, `claims` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_verifier_verify(
    verifier: *const kb_verifier,
    token: *const u8,
    token_len: usize,
    cert: *const u8,
    cert_len: usize,
    form: u32,
    now_s: i64,
    reason: *mut u32,
    claims: *mut *mut kb_claims,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let (verifier, token) = unsafe { (verifier.as_ref(), bytes(token, token_len)) };
        let (Some(verifier), Some(token), false) = (verifier, token, reason.is_null()) else {
            return KB_E_NULL;
        };
        // A host that forgot the time would find expired tokens good.
        if now_s <= 0 {
            return KB_E_ARGUMENT;
        }
        // SAFETY: the caller's.
        let certificate = match unsafe { certificate(cert, cert_len, form) } {
            Ok(certificate) => certificate,
            Err(status) => return status,
        };
        let (decision, verified) = match verifier.0.verify(token, certificate, now_s) {
            Ok(verified) => (Reason::Allowed, Some(verified)),
            Err(refusal) => (refusal, None),
        };
        if !claims.is_null() {
            let handle = verified.map_or(std::ptr::null_mut(), |v| Box::into_raw(Box::new(kb_claims(v.claims))));
            // SAFETY: not NULL, and writable as the caller says.
            unsafe { claims.write(handle) };
        }
        // SAFETY: the caller's.
        unsafe { write(reason, decision as u32) }
    })
}

/// The claims as JSON, exactly as the issuer signed them.
///
/// # Lifetimes
/// Valid until the claims are freed.
///
/// # Errors
/// `KB_E_NULL`.
///
/// # Safety
/// `claims` came from `kb_verifier_verify()` and is not freed; `json` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_claims_json(claims: *const kb_claims, json: *mut kb_str) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        match unsafe { claims.as_ref() } {
            // SAFETY: the caller's.
            Some(claims) => unsafe { write(json, kb_str::of(&claims.0)) },
            None => KB_E_NULL,
        }
    })
}

/// Frees claims. NULL does nothing.
///
/// # Safety
/// `claims` is NULL, or came from `kb_verifier_verify()` and is not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_claims_free(claims: *mut kb_claims) {
    // SAFETY: the caller's.
    unsafe { free_handle(claims) };
}
