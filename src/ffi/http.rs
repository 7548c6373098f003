//! What of a request logins, sessions and proofs are decided from, as the host tells it.

use std::borrow::Cow;

use super::{KB_E_ARGUMENT, Versioned, kb_str};
use crate::engine::{HEADERS, Http};

/// A header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_header {
    /// Its name
    pub name: kb_str,
    /// Its value
    pub value: kb_str,
}

/// What of a request a login, a session or a proof is decided from. Set all of it to 0 first, then `struct_size`. What the request does not have is
/// absent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_http {
    /// `sizeof(kb_http)` as the caller compiled it
    pub struct_size: usize,
    /// The method, `GET` for example
    pub method: kb_str,
    /// `Host`, or `:authority`, with the port where it has one
    pub host: kb_str,
    /// Path and query as the client sent them, before any rewriting: nginx's `$request_uri`
    pub target: kb_str,
    /// All `Cookie` headers, joined by a semicolon and a space
    pub cookie: kb_str,
    /// `Accept`
    pub accept: kb_str,
    /// `Origin`
    pub origin: kb_str,
    /// `Sec-Fetch-Site`
    pub fetch_site: kb_str,
    /// `Sec-Fetch-Mode`
    pub fetch_mode: kb_str,
    /// `Sec-Fetch-Dest`
    pub fetch_dest: kb_str,
    /// `Refresh-Token`
    pub refresh_token: kb_str,
    /// With `KB_NEEDS_FORM`: the body of a POST whose `Content-Type` is `application/x-www-form-urlencoded`, if it has at most 16 KiB
    pub form: kb_str,
    /// All headers of the request, as they came, instead of the members from `cookie` to `refresh_token`, and from `dpop` to
    /// `forwarded_prefix`, which are then absent; or NULL
    pub headers: *const kb_header,
    /// How many these are
    pub headers_n: usize,
    /// `https` or `http`: that of the connection
    pub scheme: kb_str,
    /// The address at the other end of the connection, whatever a header says: nginx's `$realip_remote_addr`
    pub peer: kb_str,
    /// What no other request has, on whatever node, if one request may be decided about more than once (internal redirects); else absent:
    /// its proof is used once for all of these decisions
    pub request: kb_str,
    /// `DPoP`
    pub dpop: kb_str,
    /// `X-Forwarded-Proto`
    pub forwarded_proto: kb_str,
    /// `X-Forwarded-Host`
    pub forwarded_host: kb_str,
    /// `X-Forwarded-Port`
    pub forwarded_port: kb_str,
    /// `X-Forwarded-Prefix`
    pub forwarded_prefix: kb_str,
    /// How many `DPoP` headers came; 0 with `headers`
    pub dpop_n: u32,
    /// 0
    pub reserved: u32,
    /// What `kb_check_spent()` gave last when this very request was let through before: the same proof is then held against the time of its
    /// first use, whatever the upstream took before it redirected the request; absent: it gave nothing
    pub spent: kb_str,
}

impl Versioned for kb_http {
    const V1: usize = std::mem::offset_of!(kb_http, form) + size_of::<kb_str>();
}

/// The same, borrowed from the host, or joined.
pub(super) struct Facts<'a> {
    method: &'a [u8],
    host: &'a [u8],
    target: &'a [u8],
    form: &'a [u8],
    scheme: &'a [u8],
    peer: &'a [u8],
    id: &'a [u8],
    dpop_count: u32,
    spent: &'a [u8],
    /// Of [`HEADERS`]
    headers: [Cow<'a, [u8]>; HEADERS.len()],
}

/// # Safety
/// The pointer has the given length, for as long as the result is used.
unsafe fn text<'a>(s: kb_str) -> Result<&'a [u8], i32> {
    // What is too long to be real must not pass for absent.
    match isize::try_from(s.len) {
        // SAFETY: the caller's.
        Ok(_) => Ok(unsafe { s.get() }.unwrap_or_default()),
        Err(_) => Err(KB_E_ARGUMENT),
    }
}

/// Whether an upstream may take one name for the other: to CGI, and to many who came after it, `Refresh_Token` is `Refresh-Token`. What a
/// trusted proxy says has one spelling: the other it may let through as its client sent it.
fn is_name(given: &[u8], name: &str) -> bool {
    let is_forwarded = name.starts_with("x-forwarded-");
    given.len() == name.len()
        && given
            .iter()
            .zip(name.as_bytes())
            .all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-' && !is_forwarded))
}

impl<'a> Facts<'a> {
    /// # Safety
    /// The pointers have the given lengths, for as long as the result is used.
    pub(super) unsafe fn read(http: &kb_http) -> Result<Facts<'a>, i32> {
        // SAFETY: the caller's.
        let get = |s| unsafe { text::<'a>(s) };
        let single = [
            http.cookie,
            http.accept,
            http.origin,
            http.fetch_site,
            http.fetch_mode,
            http.fetch_dest,
            http.refresh_token,
            http.dpop,
            http.forwarded_proto,
            http.forwarded_host,
            http.forwarded_port,
            http.forwarded_prefix,
        ];
        // One that forgot to count would not see a second proof.
        let is_miscounted = (http.dpop_n == 0) != http.dpop.ptr.is_null();
        if http.reserved != 0 || is_miscounted {
            return Err(KB_E_ARGUMENT);
        }
        let mut dpop_count = http.dpop_n;
        let mut headers: [Cow<'a, [u8]>; HEADERS.len()] = Default::default();
        for (own, given) in headers.iter_mut().zip(single) {
            *own = Cow::Borrowed(get(given)?);
        }
        if !http.headers.is_null() {
            if single.iter().any(|s| !s.ptr.is_null()) || isize::try_from(http.headers_n).is_err() {
                return Err(KB_E_ARGUMENT);
            }
            // SAFETY: the caller's, and not NULL.
            for header in unsafe { std::slice::from_raw_parts(http.headers, http.headers_n) } {
                let (given, value) = (get(header.name)?, get(header.value)?);
                for (own, (name, separator)) in
                    headers.iter_mut().zip(HEADERS).filter(|(_, (name, _))| is_name(given, name))
                {
                    dpop_count = dpop_count.saturating_add(u32::from(name == "dpop"));
                    *own = if own.is_empty() {
                        Cow::Borrowed(value)
                    } else {
                        Cow::Owned([own.as_ref(), separator.as_bytes(), value].concat())
                    };
                }
            }
        }
        Ok(Facts {
            method: get(http.method)?,
            host: get(http.host)?,
            target: get(http.target)?,
            form: get(http.form)?,
            scheme: get(http.scheme)?,
            peer: get(http.peer)?,
            id: get(http.request)?,
            dpop_count,
            spent: get(http.spent)?,
            headers,
        })
    }

    pub(super) fn get(&self) -> Http<'_> {
        let [
            cookie,
            accept,
            origin,
            fetch_site,
            fetch_mode,
            fetch_dest,
            refresh_token,
            dpop,
            forwarded_proto,
            forwarded_host,
            forwarded_port,
            forwarded_prefix,
        ] = &self.headers;
        Http {
            method: self.method,
            host: self.host,
            target: self.target,
            cookie,
            accept,
            origin,
            fetch_site,
            fetch_mode,
            fetch_dest,
            refresh_token,
            form: self.form,
            scheme: self.scheme,
            peer: self.peer,
            dpop,
            dpop_count: self.dpop_count,
            forwarded_proto,
            forwarded_host,
            forwarded_port,
            forwarded_prefix,
            id: self.id,
            spent: self.spent,
        }
    }
}
