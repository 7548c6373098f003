//! The C ABI: `include/keybound.h` is generated from here. The only module with `unsafe`.
//!
//! Every export runs behind `guard::guarded`, checks its pointers, and writes outputs only on success.
#![allow(non_camel_case_types)]

mod guard;
mod http;
mod openssl;

// In the order of the header: a blank line keeps rustfmt from sorting them.
mod primitives;

mod verifier;

mod engine;

mod check;

mod exchange;

mod metrics;

mod tls;

use std::ffi::{c_char, c_void};

pub use check::*;
pub use engine::*;
pub use exchange::*;
pub use http::{kb_header, kb_http};
pub use metrics::*;
pub use primitives::*;
pub use tls::*;
pub use verifier::*;

use crate::cert::ClientCertificate;
use crate::engine::ConfigError;
use crate::reason::Reason;
use guard::guarded;

/// The ABI that this header describes. A library with another number is not compatible: compare with `kb_abi_version()`.
pub const KB_ABI_VERSION: u32 = 1;

/// The call succeeded. Never a decision.
pub const KB_OK: i32 = 0;
/// A required pointer is NULL.
pub const KB_E_NULL: i32 = -1;
/// A value or a length is out of range, or a `struct_size` is too small.
pub const KB_E_ARGUMENT: i32 = -2;
/// The configuration is refused; the error buffer says why.
pub const KB_E_CONFIG: i32 = -3;
/// The call does not fit the current step.
pub const KB_E_STATE: i32 = -4;
/// The certificate is too large, or not exactly one.
pub const KB_E_CERTIFICATE: i32 = -5;
/// The text is not a usable public key, or a private key is not the one of the certificate.
pub const KB_E_KEY: i32 = -6;
/// There is no such element: the index is past the end.
pub const KB_E_RANGE: i32 = -7;
/// The certificate of an `SSL *` was asked for, and this process has no OpenSSL that keybound can call.
pub const KB_E_NO_OPENSSL: i32 = -8;
/// The server is not to be trusted; the error buffer says why.
pub const KB_E_TLS: i32 = -9;
/// The connection is older than TLS 1.2.
pub const KB_E_TLS_VERSION: i32 = -10;
/// What came from the server is not HTTP, or ended early.
pub const KB_E_HTTP: i32 = -11;
/// The server's answer is larger than asked for.
pub const KB_E_TOO_LARGE: i32 = -12;
/// Internal error. Nothing is allowed by a call that returns it; a check that was going on in `kb_check_fetched()` or
/// `kb_check_stored()` answers RESPOND from then on, or with `report_only` ALLOW and the reason of an internal error.
pub const KB_E_PANIC: i32 = -99;

/// Not a step: the handle is NULL or the call failed. Never an allow.
pub const KB_STEP_INVALID: u32 = 0;
/// Proxy the request, with the header changes that the check names.
pub const KB_STEP_ALLOW: u32 = 1;
/// Answer the client with the given status, challenge, headers and body: a refusal, or what sends a browser on.
pub const KB_STEP_RESPOND: u32 = 2;
/// Perform one HTTPS request and feed the answer to `kb_check_fetched()`.
pub const KB_STEP_FETCH: u32 = 3;
/// Perform one operation on the shared store and feed the answer to `kb_check_stored()`.
pub const KB_STEP_STORE: u32 = 4;

/// The reason of an allowed request. With all others it does not go on, or only by `report_only`: `kb_reason_code()` names them,
/// docs/reasons.md explains them.
pub const KB_REASON_ALLOWED: u32 = 1;

/// A reason for `kb_engine_response()`: a header that may come once came more than once.
pub const KB_REASON_DUPLICATE_HEADER: u32 = 13;
/// A reason for `kb_engine_response()`: the host itself refused the client certificate.
pub const KB_REASON_CERTIFICATE_REFUSED: u32 = 69;
/// A reason for `kb_engine_response()`: the host knows no consumer for the claims of an allowed token.
pub const KB_REASON_CONSUMER_NOT_FOUND: u32 = 83;

/// There is no certificate.
pub const KB_CERT_NONE: u32 = 0;
/// DER, exactly one certificate.
pub const KB_CERT_DER: u32 = 1;
/// PEM, exactly one `CERTIFICATE` block, as nginx's `$ssl_client_raw_cert` gives it.
pub const KB_CERT_PEM: u32 = 2;

/// Characters of a thumbprint, with the NUL behind it.
pub const KB_THUMBPRINT_SIZE: usize = 44;

/// Bytes with a length; not NUL-terminated. As input: borrowed for the call only; `ptr` NULL means absent, `ptr` not NULL with
/// `len` 0 means present and empty. As output: valid as the function says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_str {
    /// First byte
    pub ptr: *const u8,
    /// Number of bytes
    pub len: usize,
}

impl kb_str {
    pub(crate) const ABSENT: kb_str = kb_str { ptr: std::ptr::null(), len: 0 };

    fn of(bytes: &[u8]) -> kb_str {
        kb_str { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    fn of_option(bytes: Option<&[u8]>) -> kb_str {
        bytes.map_or(kb_str::ABSENT, kb_str::of)
    }

    /// # Safety
    /// `ptr` is NULL, or `len` bytes are readable from it for `'a`.
    unsafe fn get<'a>(self) -> Option<&'a [u8]> {
        // SAFETY: the caller's.
        unsafe { bytes(self.ptr, self.len) }
    }
}

/// The bytes at `ptr`; `None` for NULL, whatever `len` is.
///
/// # Safety
/// `ptr` is NULL, or `len` bytes are readable from it for `'a`.
unsafe fn bytes<'a>(ptr: *const u8, len: usize) -> Option<&'a [u8]> {
    if ptr.is_null() || isize::try_from(len).is_err() {
        return None;
    }
    // SAFETY: not NULL, readable as the caller says, and no longer than isize::MAX.
    Some(unsafe { std::slice::from_raw_parts(ptr, len) })
}

/// # Safety
/// As for [`bytes`].
unsafe fn certificate<'a>(ptr: *const u8, len: usize, form: u32) -> Result<ClientCertificate<'a>, i32> {
    // SAFETY: the caller's.
    let given = unsafe { bytes(ptr, len) };
    match (form, given) {
        (KB_CERT_NONE, None) => Ok(ClientCertificate::Absent),
        (KB_CERT_DER, Some(der)) => Ok(ClientCertificate::Der(der)),
        (KB_CERT_PEM, Some(pem)) => Ok(ClientCertificate::Pem(pem)),
        (KB_CERT_DER | KB_CERT_PEM, None) => Err(KB_E_NULL),
        _ => Err(KB_E_ARGUMENT),
    }
}

/// Writes as much of a message as fits, and its whole length. Not NUL-terminated.
///
/// # Safety
/// `buf` is NULL or has `cap` writable bytes; `len` is NULL or writable.
unsafe fn write_error(message: &str, buf: *mut u8, cap: usize, len: *mut usize) {
    if !buf.is_null() {
        let n = message.len().min(cap);
        // SAFETY: n bytes are readable in `message` and writable in `buf`.
        unsafe { std::ptr::copy_nonoverlapping(message.as_ptr(), buf, n) };
    }
    if !len.is_null() {
        // SAFETY: writable, says the caller.
        unsafe { len.write(message.len()) };
    }
}

/// Writes an output, or says that its pointer is NULL.
///
/// # Safety
/// `out` is NULL or writable.
unsafe fn write<T>(out: *mut T, value: T) -> i32 {
    if out.is_null() {
        return KB_E_NULL;
    }
    // SAFETY: not NULL, and writable as the caller says.
    unsafe { out.write(value) };
    KB_OK
}

/// A struct that begins with the `struct_size` that the caller compiled it with.
trait Versioned: Copy {
    /// The size of its first version: a host that was compiled with it stays welcome when the struct has grown.
    const V1: usize;
}

/// Writes an output that begins with its `struct_size`, as much of it as the caller knows.
///
/// # Safety
/// `out` is NULL, or has the `struct_size` that it says.
unsafe fn write_versioned<T: Versioned>(out: *mut T, value: T) -> i32 {
    if out.is_null() {
        return KB_E_NULL;
    }
    // SAFETY: not NULL, and every version begins with it.
    let size = unsafe { out.cast::<usize>().read() };
    if size < T::V1 {
        return KB_E_ARGUMENT;
    }
    let head = size_of::<usize>();
    let len = size.min(size_of::<T>()).saturating_sub(head);
    // SAFETY: both have that many bytes behind their first member, which stays as it is.
    unsafe {
        let from = (&raw const value).cast::<u8>().add(head);
        std::ptr::copy_nonoverlapping(from, out.cast::<u8>().add(head), len);
    }
    KB_OK
}

/// Reads as much of an input as both sides know; what the host does not know is 0, which is absent.
///
/// # Safety
/// `input` is not NULL, has the `struct_size` that it says, and all bits zero are a valid `T`.
unsafe fn read_versioned<T: Versioned>(input: *const T) -> Result<T, i32> {
    // SAFETY: every version begins with it.
    let size = unsafe { input.cast::<usize>().read() };
    if size < T::V1 {
        return Err(KB_E_ARGUMENT);
    }
    let mut own = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: both have at least that many bytes, and all bits zero are valid.
    unsafe {
        std::ptr::copy_nonoverlapping(input.cast::<u8>(), own.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>()));
        Ok(own.assume_init())
    }
}

/// What every `_new` does: makes a handle from a configuration, or says why the configuration is refused.
///
/// # Safety
/// As for [`kb_engine_new`].
unsafe fn new_handle<T>(
    (config, config_len): (*const u8, usize),
    out: *mut *mut T,
    (errbuf, errbuf_cap, errbuf_len): (*mut u8, usize, *mut usize),
    new: impl FnOnce(&[u8]) -> Result<T, ConfigError>,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let config = unsafe { bytes(config, config_len) };
        let (Some(config), false) = (config, out.is_null()) else {
            return KB_E_NULL;
        };
        match new(config) {
            // SAFETY: the caller's.
            Ok(handle) => unsafe { write(out, Box::into_raw(Box::new(handle))) },
            Err(e) => {
                // SAFETY: the caller's.
                unsafe { write_error(&e.to_string(), errbuf, errbuf_cap, errbuf_len) };
                KB_E_CONFIG
            }
        }
    })
}

/// What every `_free` does.
///
/// # Safety
/// `handle` is NULL, or was made with `Box::into_raw`, is not freed yet and not in use.
unsafe fn free_handle<T>(handle: *mut T) {
    guarded((), || {
        if !handle.is_null() {
            // SAFETY: the caller's.
            drop(unsafe { Box::from_raw(handle) });
        }
    });
}

/// The ABI of the loaded library.
///
/// # Returns
/// `KB_ABI_VERSION` of the header that it was built with; 0 after an internal error.
#[unsafe(no_mangle)]
pub extern "C" fn kb_abi_version() -> u32 {
    guarded(0, || KB_ABI_VERSION)
}

/// The version of the loaded library.
///
/// # Returns
/// A NUL-terminated string such as "0.1.0", or NULL after an internal error.
///
/// # Lifetimes
/// Static.
#[unsafe(no_mangle)]
pub extern "C" fn kb_version() -> *const c_char {
    guarded(std::ptr::null(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}

/// A sentence for a status.
///
/// # Arguments
/// - `status`: what a function of this library returned
///
/// # Returns
/// A NUL-terminated string; "unknown status" for a number that is none; NULL after an internal error.
///
/// # Lifetimes
/// Static.
#[unsafe(no_mangle)]
pub extern "C" fn kb_strerror(status: i32) -> *const c_char {
    guarded(std::ptr::null(), || {
        let text = match status {
            KB_OK => c"success",
            KB_E_NULL => c"a required pointer is NULL",
            KB_E_ARGUMENT => c"a value is out of range, or a struct_size is too small",
            KB_E_CONFIG => c"the configuration is refused",
            KB_E_STATE => c"the call does not fit the current step",
            KB_E_CERTIFICATE => c"the certificate is too large, or not exactly one",
            KB_E_KEY => c"not a usable key, or not the one of the certificate",
            KB_E_RANGE => c"there is no such element",
            KB_E_NO_OPENSSL => c"this process has no OpenSSL that keybound can call",
            KB_E_TLS => c"the server is not to be trusted",
            KB_E_TLS_VERSION => c"the connection is older than TLS 1.2",
            KB_E_HTTP => c"what came is not HTTP, or ended early",
            KB_E_TOO_LARGE => c"the answer is larger than asked for",
            KB_E_PANIC => c"internal error",
            _ => c"unknown status",
        };
        text.as_ptr()
    })
}

/// The stable code of a reason, as logged.
///
/// # Arguments
/// - `reason`: a number that this library gave
///
/// # Returns
/// A NUL-terminated string such as "certificate_mismatch"; NULL for a number that is no reason.
///
/// # Lifetimes
/// Static.
#[unsafe(no_mangle)]
pub extern "C" fn kb_reason_code(reason: u32) -> *const c_char {
    guarded(std::ptr::null(), || {
        Reason::ALL.iter().find(|r| **r as u32 == reason).map_or(std::ptr::null(), |r| r.code_c().as_ptr())
    })
}

/// Whether a reason says that the request did not prove possession: a host must not treat such a request as anonymous.
///
/// # Arguments
/// - `reason`: a number that this library gave
///
/// # Returns
/// 1 or 0; 1 for a number that is no reason, and after an internal error.
#[unsafe(no_mangle)]
pub extern "C" fn kb_reason_is_binding(reason: u32) -> u32 {
    guarded(1, || Reason::ALL.iter().find(|r| **r as u32 == reason).map_or(1, |r| u32::from(r.is_binding())))
}

/// Whether `kb_facts.ssl` can be used: this process has an OpenSSL with the functions that keybound calls.
///
/// # Returns
/// 1 or 0; 0 after an internal error.
#[unsafe(no_mangle)]
pub extern "C" fn kb_ssl_supported() -> u32 {
    guarded(0, || u32::from(openssl::functions().is_some()))
}

/// Whether a server's connection asks its client for a certificate, or has asked: one that was never asked has none to show.
///
/// # Arguments
/// - `ssl`: the connection's `SSL *` of the OpenSSL that this process uses
///
/// # Returns
/// 1: it asks or asked; it has one; or its session was resumed, which does not tell. 0: it was never asked.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_NO_OPENSSL`.
///
/// # Safety
/// `ssl` is NULL, or a live connection that no other thread uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_ssl_asks_certificate(ssl: *mut c_void) -> i32 {
    guarded(KB_E_PANIC, || {
        if ssl.is_null() {
            return KB_E_NULL;
        }
        // SAFETY: the caller's, and not NULL.
        match openssl::functions().and_then(|openssl| unsafe { openssl.asks_certificate(ssl) }) {
            Some(asks) => i32::from(asks),
            None => KB_E_NO_OPENSSL,
        }
    })
}

/// The SHA-256 thumbprint of the certificate that the client of a connection showed, as in `x5t#S256` (RFC 8705 §3.1).
///
/// # Arguments
/// - `ssl`: the connection's `SSL *` of the OpenSSL that this process uses; what is found is remembered in it
/// - `out`: `KB_THUMBPRINT_SIZE` bytes, filled with 43 characters of base64url and a NUL
///
/// # Errors
/// `KB_E_NULL`; `KB_E_NO_OPENSSL`; `KB_E_STATE`: the handshake is not complete, so no key is proved; `KB_E_RANGE`: there is no certificate;
/// `KB_E_CERTIFICATE`: one that is too large.
///
/// # Safety
/// `ssl` is NULL, or a live connection that no other thread uses meanwhile; `out` has room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_ssl_thumbprint(ssl: *mut c_void, out: *mut [u8; KB_THUMBPRINT_SIZE]) -> i32 {
    guarded(KB_E_PANIC, || {
        if ssl.is_null() {
            return KB_E_NULL;
        }
        let Some(openssl) = openssl::functions() else {
            return KB_E_NO_OPENSSL;
        };
        // SAFETY: the caller's, and not NULL.
        if unsafe { openssl.early(ssl) } {
            return KB_E_STATE;
        }
        // SAFETY: the caller's, and not NULL.
        match unsafe { openssl.identity(ssl) } {
            Ok(Some(identity)) => match primitives::terminated(&identity.thumbprint.to_base64url()) {
                // SAFETY: the caller's.
                Some(text) => unsafe { write(out, text) },
                None => KB_E_PANIC,
            },
            Ok(None) => KB_E_RANGE,
            Err(_) => KB_E_CERTIFICATE,
        }
    })
}

/// A pointer as C hands it over, for signatures that take the host's own types.
type opaque = *mut c_void;
