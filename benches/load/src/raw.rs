//! What nginx calls to check a signature and nothing else: the price that no check of a new token can go below.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::ffi::c_int;
use std::hint::black_box;
use std::slice;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keybound::crypto::{Algorithm, PublicKey};

/// Long enough for RSA-2048.
const SIGNATURE: usize = 256;

fn key() -> &'static PublicKey {
    static KEY: OnceLock<PublicKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let jwk = common::jwk("RS256");
        let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().expect("string")).expect("base64url");
        PublicKey::rsa(&member("n"), &member("e")).expect("valid")
    })
}

fn signature_is_good(token: &[u8], verify: bool) -> Option<bool> {
    let dot = token.iter().rposition(|byte| *byte == b'.')?;
    let (message, signature) = (&token[..dot], &token[dot + 1..]);
    let mut decoded = [0; SIGNATURE];
    let length = URL_SAFE_NO_PAD.decode_slice(signature, &mut decoded).ok()?;
    let signature = &decoded[..length];
    Some(if verify { key().verify(Algorithm::Rs256, message, signature) } else { !black_box(signature).is_empty() })
}

/// Whether the signature of the token of an `Authorization` value is good: 1 or 0. Without `verify` all but the
/// verification is done, so that the difference of two calls is the signature alone.
///
/// # Safety
///
/// `authorization` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keybound_load_raw(authorization: *const u8, length: usize, verify: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let value = unsafe { slice::from_raw_parts(authorization, length) };
    c_int::from(value.strip_prefix(b"Bearer ").and_then(|token| signature_is_good(token, verify != 0)) == Some(true))
}
