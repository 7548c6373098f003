//! Servers: whether the peer of a connection that the host opened is the one that it was opened to. nginx gives a Lua program no
//! CA of its own, and no check of IP addresses. All of it is done by the host's OpenSSL.

use core::net::IpAddr;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};

use super::guard::guarded;
use super::openssl::{self, function};
use super::{KB_E_CONFIG, KB_E_NO_OPENSSL, KB_E_NULL, KB_E_PANIC, KB_E_TLS, KB_E_TLS_VERSION, KB_OK};
use super::{bytes, free_handle, opaque, write, write_error};

/// Certificates that are trusted to vouch for servers. May be used by several threads at once.
pub struct kb_trust(Trust);

type New = unsafe extern "C" fn() -> opaque;
type NewOf = unsafe extern "C" fn(opaque) -> opaque;
type Free = unsafe extern "C" fn(opaque);
type Int = unsafe extern "C" fn(opaque) -> c_int;
type Int2 = unsafe extern "C" fn(opaque, opaque) -> c_int;
type Set = unsafe extern "C" fn(opaque, c_int);
type SetName = unsafe extern "C" fn(opaque, *const c_char) -> c_int;
type Init = unsafe extern "C" fn(opaque, opaque, opaque, opaque) -> c_int;
type MemBuf = unsafe extern "C" fn(*const c_void, c_int) -> opaque;
type ReadPem = unsafe extern "C" fn(opaque, opaque, opaque, opaque) -> opaque;
type CheckHost = unsafe extern "C" fn(opaque, *const u8, usize, c_uint, opaque) -> c_int;
type CheckIp = unsafe extern "C" fn(opaque, *const u8, usize, c_uint) -> c_int;
type ErrorString = unsafe extern "C" fn(c_long) -> *const c_char;
type LastError = unsafe extern "C" fn() -> c_ulong;
type ClearError = unsafe extern "C" fn();
type Item = unsafe extern "C" fn(opaque, c_int) -> opaque;

const TLS1_2_VERSION: c_int = 0x0303;
/// `PEM_R_NO_START_LINE`: in the lowest bits of an error of any version.
const NO_START_LINE: c_ulong = 108;
/// `X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS`, and `X509_CHECK_FLAG_NEVER_CHECK_SUBJECT`: names are in the subjectAltName (RFC 9525).
const NAME_FLAGS: c_uint = 0x4 | 0x20;

pub(super) struct Tls {
    method: New,
    ctx_new: NewOf,
    ctx_free: Free,
    ssl_new: NewOf,
    ssl_free: Free,
    set_session: Int2,
    chain: NewOf,
    security_level: Int,
    session_version: Int,
    session_peer: NewOf,
    store_new: New,
    store_free: Free,
    store_add: Int2,
    store_ctx_new: New,
    store_ctx_init: Init,
    store_ctx_default: SetName,
    store_ctx_param: NewOf,
    store_ctx_error: Int,
    store_ctx_free: Free,
    auth_level: Set,
    verify: Int,
    error_string: ErrorString,
    check_host: CheckHost,
    check_ip: CheckIp,
    check_key: Int2,
    item: Item,
    mem_buf: MemBuf,
    read_pem: ReadPem,
    bio_free: Int,
    x509_free: Free,
    last_error: LastError,
    clear_error: ClearError,
}

/// The functions that `openssl::tls` keeps.
pub(super) fn look_up() -> Option<Tls> {
    Some(Tls {
        method: function!(c"TLS_client_method" as New)?,
        ctx_new: function!(c"SSL_CTX_new" as NewOf)?,
        ctx_free: function!(c"SSL_CTX_free" as Free)?,
        ssl_new: function!(c"SSL_new" as NewOf)?,
        ssl_free: function!(c"SSL_free" as Free)?,
        set_session: function!(c"SSL_set_session" as Int2)?,
        chain: function!(c"SSL_get_peer_cert_chain" as NewOf)?,
        security_level: function!(c"SSL_get_security_level" as Int)?,
        session_version: function!(c"SSL_SESSION_get_protocol_version" as Int)?,
        session_peer: function!(c"SSL_SESSION_get0_peer" as NewOf)?,
        store_new: function!(c"X509_STORE_new" as New)?,
        store_free: function!(c"X509_STORE_free" as Free)?,
        store_add: function!(c"X509_STORE_add_cert" as Int2)?,
        store_ctx_new: function!(c"X509_STORE_CTX_new" as New)?,
        store_ctx_init: function!(c"X509_STORE_CTX_init" as Init)?,
        store_ctx_default: function!(c"X509_STORE_CTX_set_default" as SetName)?,
        store_ctx_param: function!(c"X509_STORE_CTX_get0_param" as NewOf)?,
        store_ctx_error: function!(c"X509_STORE_CTX_get_error" as Int)?,
        store_ctx_free: function!(c"X509_STORE_CTX_free" as Free)?,
        auth_level: function!(c"X509_VERIFY_PARAM_set_auth_level" as Set)?,
        verify: function!(c"X509_verify_cert" as Int)?,
        error_string: function!(c"X509_verify_cert_error_string" as ErrorString)?,
        check_host: function!(c"X509_check_host" as CheckHost)?,
        check_ip: function!(c"X509_check_ip" as CheckIp)?,
        check_key: function!(c"X509_check_private_key" as Int2)?,
        item: function!(c"OPENSSL_sk_value" as Item)?,
        mem_buf: function!(c"BIO_new_mem_buf" as MemBuf)?,
        read_pem: function!(c"PEM_read_bio_X509" as ReadPem)?,
        bio_free: function!(c"BIO_free" as Int)?,
        x509_free: function!(c"X509_free" as Free)?,
        last_error: function!(c"ERR_peek_last_error" as LastError)?,
        clear_error: function!(c"ERR_clear_error" as ClearError)?,
    })
}

/// Something of OpenSSL that is ours to free. Never NULL.
struct Owned {
    ptr: opaque,
    free: Free,
}

impl Owned {
    /// # Safety
    /// `ptr` is NULL, or ours to give to `free`.
    unsafe fn new(ptr: opaque, free: Free) -> Option<Owned> {
        (!ptr.is_null()).then_some(Owned { ptr, free })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: as `new` was told.
        unsafe { (self.free)(self.ptr) };
    }
}

/// Takes its errors out of OpenSSL's queue when a call ends: nginx would find them there and blame another connection.
struct NoErrors<'a>(&'a Tls);

impl Drop for NoErrors<'_> {
    fn drop(&mut self) {
        // SAFETY: OpenSSL's own queue of this thread.
        unsafe { (self.0.clear_error)() };
    }
}

struct Trust {
    /// `X509_STORE`
    store: Owned,
    /// `SSL_CTX`, for reading sessions: making one costs more than all the rest.
    ctx: Owned,
}

// SAFETY: both count their references and lock what they change; neither is changed after it was made.
unsafe impl Send for Trust {}
// SAFETY: as above.
unsafe impl Sync for Trust {}

enum Refusal {
    Version,
    Peer(String),
    Internal,
}

impl Tls {
    fn trust(&self, pem: &[u8]) -> Result<Trust, String> {
        let out_of_memory = || "OpenSSL is out of memory".to_owned();
        let _no_errors = NoErrors(self);
        let len = c_int::try_from(pem.len()).map_err(|_| "is too large".to_owned())?;
        // SAFETY: each is new and ours; the method is OpenSSL's own constant.
        let (store, ctx) = unsafe {
            let store = Owned::new((self.store_new)(), self.store_free);
            (store, Owned::new((self.ctx_new)((self.method)()), self.ctx_free))
        };
        let (Some(store), Some(ctx)) = (store, ctx) else { return Err(out_of_memory()) };
        // SAFETY: the bytes live as long as the BIO, which only reads them.
        let bio = unsafe { (self.mem_buf)(pem.as_ptr().cast(), len) };
        if bio.is_null() {
            return Err(out_of_memory());
        }
        let read = self.read_into(bio, &store, memchr::memmem::find_iter(pem, "-----BEGIN CERTIFICATE-----").count());
        // SAFETY: `bio` is ours.
        unsafe { (self.bio_free)(bio) };
        read.map(|()| Trust { store, ctx })
    }

    /// `begun`: how many certificates begin in the text. OpenSSL does not see those that are indented.
    fn read_into(&self, bio: opaque, store: &Owned, begun: usize) -> Result<(), String> {
        let mut count = 0usize;
        loop {
            let null = std::ptr::null_mut();
            // SAFETY: `bio` is live; without a callback and its argument nothing is asked for.
            let x509 = unsafe { Owned::new((self.read_pem)(bio, null, null, null), self.x509_free) };
            let Some(x509) = x509 else { break };
            // SAFETY: both live; the store takes a reference of its own.
            if unsafe { (self.store_add)(store.ptr, x509.ptr) } != 1 {
                return Err("has a certificate that OpenSSL does not take".to_owned());
            }
            count = count.saturating_add(1);
        }
        // SAFETY: OpenSSL's own queue of this thread.
        if unsafe { (self.last_error)() } & 0xfff != NO_START_LINE || count < begun {
            return Err("has a certificate that cannot be read".to_owned());
        }
        if count == 0 { Err("has no certificate in PEM".to_owned()) } else { Ok(()) }
    }

    /// # Safety
    /// `session` is a live `SSL_SESSION *` of the process's OpenSSL.
    unsafe fn check(&self, trust: Option<&Trust>, session: opaque, host: Option<&[u8]>) -> Result<(), Refusal> {
        let _no_errors = NoErrors(self);
        // SAFETY: the caller's.
        if unsafe { (self.session_version)(session) } < TLS1_2_VERSION {
            return Err(Refusal::Version);
        }
        let Some(host) = host else { return Ok(()) };
        // SAFETY: the caller's; the session holds the certificate.
        let leaf = unsafe { (self.session_peer)(session) };
        if leaf.is_null() {
            return Err(Refusal::Peer("the server has no certificate".to_owned()));
        }
        if let Some(trust) = trust {
            // SAFETY: `leaf` lives with the session.
            unsafe { self.check_chain(trust, session, leaf) }?;
        }
        // SAFETY: as above.
        if unsafe { self.is_for(leaf, host) } {
            return Ok(());
        }
        let host = String::from_utf8_lossy(host);
        Err(Refusal::Peer(format!("the server's certificate is not for {host:?}")))
    }

    /// # Safety
    /// `session` is live, and `leaf` its certificate.
    unsafe fn check_chain(&self, trust: &Trust, session: opaque, leaf: opaque) -> Result<(), Refusal> {
        // A session tells its chain only through a connection; this one never speaks.
        // SAFETY: the context is live; what is made is ours.
        let ssl = unsafe { Owned::new((self.ssl_new)(trust.ctx.ptr), self.ssl_free) }.ok_or(Refusal::Internal)?;
        // SAFETY: as above.
        let ctx = unsafe { Owned::new((self.store_ctx_new)(), self.store_ctx_free) }.ok_or(Refusal::Internal)?;
        // SAFETY: all are live until the end of this function: `ssl` holds the session, which holds leaf and chain.
        let verified = unsafe {
            if (self.set_session)(ssl.ptr, session) != 1 {
                return Err(Refusal::Internal);
            }
            let chain = (self.chain)(ssl.ptr);
            if (self.store_ctx_init)(ctx.ptr, trust.store.ptr, leaf, chain) != 1
                || (self.store_ctx_default)(ctx.ptr, c"ssl_server".as_ptr()) != 1
            {
                return Err(Refusal::Internal);
            }
            let param = (self.store_ctx_param)(ctx.ptr);
            if param.is_null() {
                return Err(Refusal::Internal);
            }
            (self.auth_level)(param, (self.security_level)(ssl.ptr));
            (self.verify)(ctx.ptr)
        };
        if verified == 1 {
            return Ok(());
        }
        // SAFETY: `ctx` is live, and the text is OpenSSL's own constant.
        let text = unsafe {
            let text = (self.error_string)(c_long::from((self.store_ctx_error)(ctx.ptr)));
            if text.is_null() { c"not verified" } else { CStr::from_ptr(text) }
        };
        Err(Refusal::Peer(format!("the server's certificate: {}", text.to_string_lossy())))
    }

    /// # Safety
    /// `leaf` is live.
    unsafe fn is_for(&self, leaf: opaque, host: &[u8]) -> bool {
        let address = std::str::from_utf8(host).ok().and_then(|host| host.parse::<IpAddr>().ok());
        // SAFETY: the certificate is live, and the bytes are readable.
        let matches = unsafe {
            match address {
                Some(IpAddr::V4(ip)) => (self.check_ip)(leaf, ip.octets().as_ptr(), 4, 0),
                Some(IpAddr::V6(ip)) => (self.check_ip)(leaf, ip.octets().as_ptr(), 16, 0),
                // OpenSSL takes a length of 0 for "ask strlen", and drops a NUL at the end.
                None if host.is_empty() || host.contains(&0) => 0,
                None => (self.check_host)(leaf, host.as_ptr(), host.len(), NAME_FLAGS, std::ptr::null_mut()),
            }
        };
        matches == 1
    }
}

/// Reads the certificates that are trusted to vouch for servers. The host's OpenSSL must be there already.
///
/// # Arguments
/// - `pem`, `pem_len`: one or more certificates in PEM
/// - `trust`: receives the handle
/// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_CONFIG`, cut to fit, not NUL-terminated; may be NULL
/// - `errbuf_len`: receives the whole length of the message; may be NULL
///
/// # Returns
/// `KB_OK`; free the handle with `kb_trust_free()`.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_CONFIG`: none, or one that cannot be read; `KB_E_NO_OPENSSL`.
///
/// # Safety
/// `pem` has `pem_len` readable bytes, `errbuf` has `errbuf_cap` writable ones, `trust` and `errbuf_len` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_trust_new(
    pem: *const u8,
    pem_len: usize,
    trust: *mut *mut kb_trust,
    errbuf: *mut u8,
    errbuf_cap: usize,
    errbuf_len: *mut usize,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let pem = unsafe { bytes(pem, pem_len) };
        let (Some(pem), false) = (pem, trust.is_null()) else {
            return KB_E_NULL;
        };
        let Some(tls) = openssl::tls() else {
            return KB_E_NO_OPENSSL;
        };
        match tls.trust(pem) {
            // SAFETY: the caller's.
            Ok(new) => unsafe { write(trust, Box::into_raw(Box::new(kb_trust(new)))) },
            Err(message) => {
                // SAFETY: the caller's.
                unsafe { write_error(&message, errbuf, errbuf_cap, errbuf_len) };
                KB_E_CONFIG
            }
        }
    })
}

/// Frees trusted certificates. NULL does nothing.
///
/// # Safety
/// `trust` is NULL, or came from `kb_trust_new()`, is not freed yet and not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_trust_free(trust: *mut kb_trust) {
    // SAFETY: the caller's.
    unsafe { free_handle(trust) };
}

/// Verifies the server of a connection whose handshake is done: TLS 1.2 or later; its certificate, with the chain that it sent,
/// ends at a trusted one, is in its time and for servers; and it has the host's name or IP address in its subjectAltName.
///
/// # Arguments
/// - `trust`: the trusted certificates; NULL: the chain is not looked at, because the host has verified it
/// - `session`: the `SSL_SESSION *` of the client's side, of the OpenSSL that this process uses
/// - `host`, `host_len`: name or IP address (without brackets) that was connected to; NULL, with `trust` NULL: only the version is
///   looked at
/// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_TLS`, cut to fit, not NUL-terminated; may be NULL
/// - `errbuf_len`: receives the whole length of the message; may be NULL
///
/// # Returns
/// `KB_OK` if the server is the one that was meant.
///
/// # Errors
/// `KB_E_NULL`: no session, or `trust` without `host`; `KB_E_TLS`; `KB_E_TLS_VERSION`; `KB_E_NO_OPENSSL`.
///
/// # Safety
/// `trust` is NULL, or came from `kb_trust_new()` and is not freed; `session` is live; `host` has `host_len` readable bytes,
/// `errbuf` has `errbuf_cap` writable ones, `errbuf_len` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_tls_verify(
    trust: *const kb_trust,
    session: *mut c_void,
    host: *const u8,
    host_len: usize,
    errbuf: *mut u8,
    errbuf_cap: usize,
    errbuf_len: *mut usize,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let (trust, host) = unsafe { (trust.as_ref(), bytes(host, host_len)) };
        if session.is_null() || (trust.is_some() && host.is_none()) {
            return KB_E_NULL;
        }
        let Some(tls) = openssl::tls() else {
            return KB_E_NO_OPENSSL;
        };
        // SAFETY: the caller's.
        match unsafe { tls.check(trust.map(|t| &t.0), session, host) } {
            Ok(()) => KB_OK,
            Err(Refusal::Version) => KB_E_TLS_VERSION,
            Err(Refusal::Internal) => KB_E_PANIC,
            Err(Refusal::Peer(message)) => {
                // SAFETY: the caller's.
                unsafe { write_error(&message, errbuf, errbuf_cap, errbuf_len) };
                KB_E_TLS
            }
        }
    })
}

/// Whether a private key belongs to the first certificate of a chain.
///
/// # Arguments
/// - `chain`: a `STACK_OF(X509) *` of the OpenSSL that this process uses, as lua-resty-core's `parse_pem_cert` gives it
/// - `key`: an `EVP_PKEY *` of it, as `parse_pem_priv_key` gives it
///
/// # Returns
/// `KB_OK` if it does.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_KEY`: it does not; `KB_E_NO_OPENSSL`.
///
/// # Safety
/// Both are NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_tls_pair(chain: *mut c_void, key: *mut c_void) -> i32 {
    guarded(KB_E_PANIC, || {
        if chain.is_null() || key.is_null() {
            return KB_E_NULL;
        }
        let Some(tls) = openssl::tls() else {
            return KB_E_NO_OPENSSL;
        };
        let _no_errors = NoErrors(tls);
        // SAFETY: the caller's; of an empty chain NULL comes back, and is not handed on.
        let belongs = unsafe {
            let leaf = (tls.item)(chain, 0);
            !leaf.is_null() && (tls.check_key)(leaf, key) == 1
        };
        if belongs { KB_OK } else { super::KB_E_KEY }
    })
}
