//! The certificate of a connection, from the host's own OpenSSL. The functions are looked up in the process: linking an OpenSSL
//! of our own would be another one than the host's.

use std::ffi::{CStr, c_int, c_long};
use std::sync::OnceLock;

use super::guard::guarded;
use super::opaque;
use super::tls::Tls;
use crate::cert::{Identity, MAX_DER};
use crate::reason::Reason;

type Get = unsafe extern "C" fn(opaque) -> opaque;
type Int = unsafe extern "C" fn(opaque) -> c_int;
type Free = unsafe extern "C" fn(opaque);
type I2d = unsafe extern "C" fn(opaque, *mut *mut u8) -> c_int;
type GetEx = unsafe extern "C" fn(opaque, c_int) -> opaque;
type SetEx = unsafe extern "C" fn(opaque, c_int, opaque) -> c_int;
type OnFree = unsafe extern "C" fn(opaque, opaque, opaque, c_int, c_long, opaque);
type OnDup = unsafe extern "C" fn(opaque, opaque, opaque, c_int, c_long, opaque) -> c_int;
type NewIndex = unsafe extern "C" fn(c_int, c_long, opaque, opaque, Option<OnDup>, Option<OnFree>) -> c_int;

/// `CRYPTO_EX_INDEX_SSL`
const EX_INDEX_SSL: c_int = 0;
/// `SSL_VERIFY_PEER`
const VERIFY_PEER: c_int = 1;

pub(super) struct Functions {
    peer: Peer,
    i2d_x509: I2d,
    x509_free: Free,
    is_init_finished: Int,
    asks: Option<Asks>,
    memo: Option<Memo>,
    tls: Option<Tls>,
}

/// What tells whether a connection asks its client for a certificate.
struct Asks {
    verify_mode: Int,
    session_reused: Int,
}

enum Peer {
    /// `SSL_get0_peer_certificate` (OpenSSL 3): borrowed from the connection.
    Borrowed(Get),
    /// `SSL_get_peer_certificate` (OpenSSL 1.1.1): ours to free.
    Owned(Get),
}

/// Where the connection keeps what is remembered of its certificate.
struct Memo {
    index: c_int,
    get: GetEx,
    set: SetEx,
    up_ref: Int,
}

/// What is remembered, in the connection's ex_data.
struct Remembered {
    /// The certificate that `identity` is of. A reference is held, so the address cannot become another certificate's.
    x509: opaque,
    x509_free: Free,
    identity: Identity,
}

impl Drop for Remembered {
    fn drop(&mut self) {
        // SAFETY: the reference was taken when this was made.
        unsafe { (self.x509_free)(self.x509) };
    }
}

/// The functions, looked up until they are found: the host may load its OpenSSL later.
pub(super) fn functions() -> Option<&'static Functions> {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    if let Some(functions) = FUNCTIONS.get() {
        return Some(functions);
    }
    let functions = look_up()?;
    Some(FUNCTIONS.get_or_init(|| functions))
}

/// What is needed to verify servers.
pub(super) fn tls() -> Option<&'static Tls> {
    functions()?.tls.as_ref()
}

pub(super) fn symbol(name: &CStr) -> Option<opaque> {
    // SAFETY: `name` is NUL-terminated; RTLD_DEFAULT needs no handle.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// `function!(c"name" as Type)`: the function of that name in this process, if there is one.
macro_rules! function {
    ($name:literal as $type:ty) => {
        // SAFETY: the symbol is OpenSSL's function of that name, whose type this is; pointers and functions have one size.
        $crate::ffi::openssl::symbol($name)
            .map(|f| unsafe { std::mem::transmute::<*mut std::ffi::c_void, $type>(f) })
    };
}
pub(super) use function;

fn look_up() -> Option<Functions> {
    // BoringSSL and others have some of these names with other parameters.
    if symbol(c"OpenSSL_version_num").is_none() || symbol(c"BORINGSSL_self_test").is_some() {
        return None;
    }
    let peer = match function!(c"SSL_get0_peer_certificate" as Get) {
        Some(get0) => Peer::Borrowed(get0),
        None => Peer::Owned(function!(c"SSL_get_peer_certificate" as Get)?),
    };
    Some(Functions {
        peer,
        i2d_x509: function!(c"i2d_X509" as I2d)?,
        x509_free: function!(c"X509_free" as Free)?,
        is_init_finished: function!(c"SSL_is_init_finished" as Int)?,
        asks: asks(),
        memo: memo(),
        tls: super::tls::look_up(),
    })
}

fn asks() -> Option<Asks> {
    Some(Asks {
        verify_mode: function!(c"SSL_get_verify_mode" as Int)?,
        session_reused: function!(c"SSL_session_reused" as Int)?,
    })
}

fn memo() -> Option<Memo> {
    let new_index = function!(c"CRYPTO_get_ex_new_index" as NewIndex)?;
    let get = function!(c"SSL_get_ex_data" as GetEx)?;
    let set = function!(c"SSL_set_ex_data" as SetEx)?;
    let up_ref = function!(c"X509_up_ref" as Int)?;
    // SAFETY: the callbacks live as long as the process, since the library is never unmapped (-z nodelete).
    let index =
        unsafe { new_index(EX_INDEX_SSL, 0, std::ptr::null_mut(), std::ptr::null_mut(), Some(on_dup), Some(on_free)) };
    (index >= 0).then_some(Memo { index, get, set, up_ref })
}

unsafe extern "C" fn on_free(_: opaque, remembered: opaque, _: opaque, _: c_int, _: c_long, _: opaque) {
    guarded((), || {
        if !remembered.is_null() {
            // SAFETY: only `Functions::remember` puts something there, and the connection is being freed.
            drop(unsafe { Box::from_raw(remembered.cast::<Remembered>()) });
        }
    });
}

/// A duplicate of a connection must not free what the original owns. It begins without memory.
unsafe extern "C" fn on_dup(_: opaque, _: opaque, from_d: opaque, _: c_int, _: c_long, _: opaque) -> c_int {
    // SAFETY: OpenSSL hands over the address of the pointer to copy (`void **from_d`).
    unsafe { from_d.cast::<opaque>().write(std::ptr::null_mut()) };
    1
}

impl Functions {
    /// Whether the handshake is not complete: the request came in early data, and no key was proved.
    ///
    /// # Safety
    /// `ssl` is a live `SSL *` of the process's OpenSSL, used by no other thread meanwhile.
    pub(super) unsafe fn early(&self, ssl: opaque) -> bool {
        // Not SSL_in_init: in early data the server's own part of the handshake is done, and it answers 0.
        // SAFETY: the caller's.
        unsafe { (self.is_init_finished)(ssl) == 0 }
    }

    /// Whether the connection asks its client for a certificate, or has asked; `None` where this OpenSSL does not tell. Of a resumed session it
    /// cannot be told what was asked at first.
    ///
    /// # Safety
    /// As for [`Functions::early`].
    pub(super) unsafe fn asks_certificate(&self, ssl: opaque) -> Option<bool> {
        let asks = self.asks.as_ref()?;
        // SAFETY: the caller's.
        unsafe {
            let asked = (asks.verify_mode)(ssl) & VERIFY_PEER != 0 || (asks.session_reused)(ssl) != 0;
            Some(asked || self.with_peer(ssl, |_| ()).is_some())
        }
    }

    /// What is to be known of the peer's certificate; `None` where the peer has none.
    ///
    /// # Safety
    /// As for [`Functions::early`].
    pub(super) unsafe fn identity(&self, ssl: opaque) -> Result<Option<Identity>, Reason> {
        // SAFETY: the caller's, and the certificate lives while it is looked at.
        unsafe { self.with_peer(ssl, |x509| self.identity_of(ssl, x509)) }.transpose()
    }

    /// Looks at the peer's certificate, if there is one.
    ///
    /// # Safety
    /// As for [`Functions::early`].
    unsafe fn with_peer<T>(&self, ssl: opaque, look: impl FnOnce(opaque) -> T) -> Option<T> {
        // SAFETY: the caller's; an owned certificate is given back below.
        let x509 = match self.peer {
            Peer::Borrowed(get) | Peer::Owned(get) => unsafe { get(ssl) },
        };
        if x509.is_null() {
            return None;
        }
        let seen = look(x509);
        if matches!(self.peer, Peer::Owned(_)) {
            // SAFETY: the reference that the getter gave us.
            unsafe { (self.x509_free)(x509) };
        }
        Some(seen)
    }

    /// # Safety
    /// As for [`Functions::early`], and `x509` is live.
    unsafe fn identity_of(&self, ssl: opaque, x509: opaque) -> Result<Identity, Reason> {
        if let Some(memo) = &self.memo {
            // SAFETY: the index is ours, and what is there was put there by `remember` and is not freed before the connection.
            let remembered = unsafe { (memo.get)(ssl, memo.index).cast::<Remembered>().as_ref() };
            if let Some(remembered) = remembered
                && remembered.x509 == x509
            {
                return Ok(remembered.identity);
            }
        }
        // SAFETY: with NULL only the length is asked for.
        let len = unsafe { (self.i2d_x509)(x509, std::ptr::null_mut()) };
        let len = usize::try_from(len).map_err(|_| Reason::CertificateMalformed)?;
        if len == 0 || len > MAX_DER {
            return Err(Reason::CertificateMalformed);
        }
        let mut der = vec![0u8; len];
        let mut end = der.as_mut_ptr();
        // SAFETY: `der` has room for the length that was just told.
        let written = unsafe { (self.i2d_x509)(x509, &raw mut end) };
        if usize::try_from(written) != Ok(len) {
            return Err(Reason::CertificateMalformed);
        }
        let identity = Identity::of_der(&der, true);
        if let Some(memo) = &self.memo {
            // SAFETY: the caller's.
            unsafe { self.remember(memo, ssl, x509, identity) };
        }
        Ok(identity)
    }

    /// # Safety
    /// As for [`Functions::identity_of`].
    unsafe fn remember(&self, memo: &Memo, ssl: opaque, x509: opaque, identity: Identity) {
        // SAFETY: `x509` is live.
        if unsafe { (memo.up_ref)(x509) } != 1 {
            return;
        }
        let new = Box::into_raw(Box::new(Remembered { x509, x509_free: self.x509_free, identity }));
        // SAFETY: `ssl` is live and ours to use. What was there before is freed once nothing points to it any more,
        // and the new one is taken back where OpenSSL does not keep it.
        unsafe {
            let old = (memo.get)(ssl, memo.index).cast::<Remembered>();
            if (memo.set)(ssl, memo.index, new.cast()) != 1 {
                drop(Box::from_raw(new));
            } else if !old.is_null() {
                drop(Box::from_raw(old));
            }
        }
    }
}
