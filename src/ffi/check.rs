//! The steps of one request.

use super::guard::guarded;
use super::{
    KB_E_ARGUMENT, KB_E_NULL, KB_E_PANIC, KB_E_RANGE, KB_E_STATE, KB_OK, KB_STEP_ALLOW, KB_STEP_FETCH, KB_STEP_INVALID,
    KB_STEP_RESPOND, KB_STEP_STORE, Versioned, bytes, free_handle, kb_str, read_versioned, write, write_versioned,
};
use crate::client::http;
use crate::engine::{Check, Granted, Step};
use crate::steps::{Fetch, FetchAnswer, Outcome, Response, StoreAnswer, StoreOperation};

/// `kb_answer.outcome`: a complete answer, whatever its status.
pub const KB_FETCH_ANSWERED: u32 = 1;
/// `kb_answer.outcome`: the name could not be resolved.
pub const KB_FETCH_RESOLVE: u32 = 2;
/// `kb_answer.outcome`: no connection.
pub const KB_FETCH_CONNECT: u32 = 3;
/// `kb_answer.outcome`: no TLS, or a server that is not to be trusted.
pub const KB_FETCH_TLS: u32 = 4;
/// `kb_answer.outcome`: a deadline passed.
pub const KB_FETCH_TIMEOUT: u32 = 5;
/// `kb_answer.outcome`: what came is not HTTP, or ended early.
pub const KB_FETCH_MALFORMED: u32 = 6;
/// `kb_answer.outcome`: the body is larger than `kb_fetch.max_body`.
pub const KB_FETCH_TOO_LARGE: u32 = 7;
/// `kb_answer.outcome`: the host cannot make the request now: too many are under way, or something that it needs is lacking.
pub const KB_FETCH_BUSY: u32 = 8;

/// `kb_store.operation`: atomically insert if absent.
pub const KB_STORE_ADD: u32 = 1;
/// `kb_store.operation`: read.
pub const KB_STORE_GET: u32 = 2;
/// `kb_store.operation`: write.
pub const KB_STORE_PUT: u32 = 3;
/// `kb_store.operation`: delete.
pub const KB_STORE_DELETE: u32 = 4;

/// Set in `kb_store.flags`, with `KB_STORE_PUT`: where there is no room, the entry may go before its time. It is fetched anew. All others are
/// kept for all of theirs, or the store has failed.
pub const KB_STORE_CACHE: u32 = 1;

/// Answer to `KB_STORE_ADD`, `KB_STORE_PUT`, `KB_STORE_DELETE`: done.
pub const KB_STORED: u32 = 1;
/// Answer to `KB_STORE_ADD`: the key was there already.
pub const KB_STORE_EXISTS: u32 = 2;
/// Answer to `KB_STORE_GET`: here is the value.
pub const KB_STORE_FOUND: u32 = 3;
/// Answer to `KB_STORE_GET`: no such key.
pub const KB_STORE_ABSENT: u32 = 4;
/// Answer to all: the store did not answer, is full, or refused. Never give another answer instead.
pub const KB_STORE_FAILED: u32 = 5;

/// One request. One owner; used by one thread at a time. Holds what it needs of its engine.
pub struct kb_check {
    check: Check,
    /// What `kb_check_claim()` gave last.
    claim: Option<String>,
}

/// An answer for the client.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_response {
    /// HTTP status; 0 where there is no response
    pub status: u32,
    /// `Retry-After`, in seconds; 0: none
    pub retry_after_s: u32,
    /// The `WWW-Authenticate` value, or absent
    pub www_authenticate: kb_str,
    /// `Content-Type` of the body
    pub content_type: kb_str,
    /// The body
    pub body: kb_str,
}

impl kb_response {
    pub(super) const NONE: kb_response = kb_response {
        status: 0,
        retry_after_s: 0,
        www_authenticate: kb_str::ABSENT,
        content_type: kb_str::ABSENT,
        body: kb_str::ABSENT,
    };

    pub(super) fn of(response: &Response) -> kb_response {
        kb_response {
            status: u32::from(response.status),
            retry_after_s: response.retry_after.unwrap_or(0),
            www_authenticate: kb_str::of_option(response.www_authenticate.as_deref().map(str::as_bytes)),
            content_type: kb_str::of(response.content_type.as_bytes()),
            body: kb_str::of(response.body.as_bytes()),
        }
    }
}

/// One HTTPS request to the authorization server. Follow no redirect, decompress nothing, verify the server as `tls` says. Set
/// `struct_size` first; the rest is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_fetch {
    /// `sizeof(kb_fetch)` as the caller compiled it
    pub struct_size: usize,
    /// HTTP method
    pub method: kb_str,
    /// Absolute https URL
    pub url: kb_str,
    /// The body, or absent
    pub body: kb_str,
    /// The issuer, for logs
    pub issuer: kb_str,
    /// "metadata", "jwks", "introspection", "token", "revocation" or "par", for logs
    pub endpoint: kb_str,
    /// 32 octets. Two fetches of one engine with the same are the same request: while one is under way, let its answer serve both
    pub flight: kb_str,
    /// Largest body to read, in bytes; a larger one is `KB_FETCH_TOO_LARGE`
    pub max_body: usize,
    /// How to connect: the index for `kb_engine_tls()`. Reuse a connection for the same one only
    pub tls: u32,
    /// For the TCP connection, and again for the TLS handshake, in milliseconds
    pub connect_timeout_ms: u32,
    /// Between two writes, in milliseconds
    pub send_timeout_ms: u32,
    /// Between two reads, in milliseconds
    pub read_timeout_ms: u32,
    /// For the whole exchange, in milliseconds. A host that has fewer deadlines keeps at least this one
    pub timeout_ms: u32,
    /// 1: what it sends is good once. Send it at most once, over a new connection: one that was kept may end without an answer, and then
    /// nobody knows whether it counted. 0: it may be sent again if a kept connection ends before the answer begins
    pub once: u32,
    /// Host of the URL, with the port where the URL has one
    pub authority: kb_str,
    /// Path and query of the URL, as they are written; `/` where it has neither
    pub target: kb_str,
}

impl Versioned for kb_fetch {
    const V1: usize = std::mem::offset_of!(kb_fetch, once) + size_of::<u32>();
}

/// What came of a `kb_fetch`. Set all of it to 0 first, then `struct_size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_answer {
    /// `sizeof(kb_answer)` as the caller compiled it
    pub struct_size: usize,
    /// `KB_FETCH_ANSWERED`, or how it failed
    pub outcome: u32,
    /// HTTP status; 0 unless answered
    pub status: u32,
    /// `Content-Type`, or absent
    pub content_type: kb_str,
    /// `Retry-After`, or absent
    pub retry_after: kb_str,
    /// The whole body, or absent
    pub body: kb_str,
    /// How long it took, in microseconds
    pub elapsed_us: u32,
    /// 1: the answer of another check's fetch with the same `flight`
    pub joined: u32,
}

impl Versioned for kb_answer {
    const V1: usize = std::mem::offset_of!(kb_answer, joined) + size_of::<u32>();
}

/// One operation on the store that all workers, and perhaps all nodes, share. Set `struct_size` first; the rest is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_store {
    /// `sizeof(kb_store)` as the caller compiled it
    pub struct_size: usize,
    /// `KB_STORE_ADD`, `KB_STORE_GET`, `KB_STORE_PUT` or `KB_STORE_DELETE`
    pub operation: u32,
    /// How long the entry lives, in seconds; at least 1
    pub ttl_s: u32,
    /// Wait so long before, in milliseconds: another worker is about to write it
    pub delay_ms: u32,
    /// `KB_STORE_CACHE`
    pub flags: u32,
    /// The key, 32 octets: a hash, never a token
    pub key: kb_str,
    /// The value of `KB_STORE_ADD` and `KB_STORE_PUT`, else absent. What was fetched is sealed: who reads the store learns nothing
    pub value: kb_str,
}

impl Versioned for kb_store {
    const V1: usize = std::mem::offset_of!(kb_store, value) + size_of::<kb_str>();
}

impl kb_check {
    pub(super) fn new(check: Check) -> kb_check {
        kb_check { check, claim: None }
    }

    pub(super) fn step(&self) -> u32 {
        match self.check.step() {
            Step::Allow(_) | Step::Report(_) => KB_STEP_ALLOW,
            Step::Respond(_) => KB_STEP_RESPOND,
            Step::Fetch(_) => KB_STEP_FETCH,
            Step::Store(_) => KB_STEP_STORE,
        }
    }

    pub(super) fn reason(&self) -> u32 {
        self.check.reason().map_or(0, |reason| reason as u32)
    }

    /// The answer for the client, if that is the step.
    pub(super) fn response(&self) -> Option<kb_response> {
        match self.check.step() {
            Step::Respond(response) => Some(kb_response::of(response)),
            _ => None,
        }
    }

    pub(super) fn fetch(&self) -> Result<&Fetch, i32> {
        match self.check.step() {
            Step::Fetch(fetch) => Ok(fetch),
            _ => Err(KB_E_STATE),
        }
    }

    /// What only a request has that is really allowed.
    fn granted(&self) -> Result<&Granted, i32> {
        match self.check.step() {
            Step::Allow(granted) => Ok(granted),
            Step::Report(_) => Err(KB_E_RANGE),
            _ => Err(KB_E_STATE),
        }
    }
}

/// Reads from a check behind the boundary, and writes what was read.
///
/// # Safety
/// `check` is NULL or live, `out` is NULL or writable.
unsafe fn read<'c, T>(check: *const kb_check, out: *mut T, get: impl FnOnce(&'c kb_check) -> Result<T, i32>) -> i32 {
    // SAFETY: the caller's.
    unsafe { read_with(check, out, get, write) }
}

/// Likewise for an output that begins with its `struct_size`.
///
/// # Safety
/// As for [`read`].
unsafe fn read_step<'c, T: Versioned>(
    check: *const kb_check,
    out: *mut T,
    get: impl FnOnce(&'c kb_check) -> Result<T, i32>,
) -> i32 {
    // SAFETY: the caller's.
    unsafe { read_with(check, out, get, write_versioned) }
}

/// Likewise, written by `put`.
///
/// # Safety
/// As for [`read`]; `out` is as `put` wants it.
unsafe fn read_with<'c, T>(
    check: *const kb_check,
    out: *mut T,
    get: impl FnOnce(&'c kb_check) -> Result<T, i32>,
    put: unsafe fn(*mut T, T) -> i32,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(check) = (unsafe { check.as_ref() }) else {
            return KB_E_NULL;
        };
        match get(check) {
            // SAFETY: the caller's.
            Ok(value) => unsafe { put(out, value) },
            Err(status) => status,
        }
    })
}

/// Likewise for a header: name and value are written both or neither.
///
/// # Safety
/// As for [`read`].
unsafe fn read_header<'c>(
    check: *const kb_check,
    name: *mut kb_str,
    value: *mut kb_str,
    get: impl FnOnce(&'c kb_check) -> Result<(kb_str, kb_str), i32>,
) -> i32 {
    if name.is_null() {
        return KB_E_NULL;
    }
    let mut own_name = kb_str::ABSENT;
    // SAFETY: the caller's, and `name` is not NULL.
    unsafe {
        let status = read(check, value, |check| {
            let (header, value) = get(check)?;
            own_name = header;
            Ok(value)
        });
        if status == KB_OK {
            name.write(own_name);
        }
        status
    }
}

/// What the host does next.
///
/// # Returns
/// `KB_STEP_ALLOW`, `KB_STEP_RESPOND`, `KB_STEP_FETCH` or `KB_STEP_STORE`; `KB_STEP_INVALID` for NULL and after an internal error.
///
/// # Safety
/// `check` is NULL, or came from this library and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_step(check: *const kb_check) -> u32 {
    // SAFETY: the caller's.
    guarded(KB_STEP_INVALID, || unsafe { check.as_ref() }.map_or(KB_STEP_INVALID, kb_check::step))
}

/// Why: `KB_REASON_ALLOWED`, or the reason of the refusal. A request that passes by `report_only` has `KB_STEP_ALLOW` and a refusal's reason.
///
/// # Returns
/// The reason; 0 for NULL, while there are steps to take, and after an internal error.
///
/// # Safety
/// `check` is NULL, or came from this library and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_reason(check: *const kb_check) -> u32 {
    // SAFETY: the caller's.
    guarded(0, || unsafe { check.as_ref() }.map_or(0, kb_check::reason))
}

/// The answer for the client.
///
/// # Arguments
/// - `response`: receives the answer
///
/// # Lifetimes
/// Valid until the check is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_RESPOND`.
///
/// # Safety
/// `check` is NULL or live; `response` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_response(check: *const kb_check, response: *mut kb_response) -> i32 {
    // SAFETY: the caller's.
    unsafe { read(check, response, |check| check.response().ok_or(KB_E_STATE)) }
}

/// What the log should say besides the reason: what the authorization server did wrong, or of an allowed request that a check was skipped.
/// Holds no token, secret or claim.
///
/// # Arguments
/// - `detail`: receives a sentence, or absent
///
/// # Lifetimes
/// Valid until the check is freed.
///
/// # Errors
/// `KB_E_NULL`.
///
/// # Safety
/// `check` is NULL or live; `detail` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_detail(check: *const kb_check, detail: *mut kb_str) -> i32 {
    // SAFETY: the caller's.
    unsafe { read(check, detail, |check| Ok(kb_str::of_option(check.check.detail().map(str::as_bytes)))) }
}

/// What names the proof that an allowed request used, and when, for `kb_http.spent` should this very request be decided about again
/// (internal redirects).
///
/// # Arguments
/// - `spent`: receives 40 octets, which mean nothing to others, or absent: the request used no proof that a store noted
///
/// # Lifetimes
/// Valid until the check is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`: the request passes by `report_only` alone.
///
/// # Safety
/// `check` is NULL or live; `spent` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_spent(check: *const kb_check, spent: *mut kb_str) -> i32 {
    // SAFETY: the caller's.
    unsafe { read(check, spent, |check| check.granted().map(|granted| kb_str::of_option(granted.spent()))) }
}

/// The claims of an allowed token as JSON, exactly as its issuer gave them.
///
/// # Arguments
/// - `json`: receives the claims
///
/// # Lifetimes
/// Valid until the check is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`: the request passes by `report_only` alone, and has no claims.
///
/// # Safety
/// `check` is NULL or live; `json` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_claims(check: *const kb_check, json: *mut kb_str) -> i32 {
    // SAFETY: the caller's.
    unsafe { read(check, json, |check| check.granted().map(|granted| kb_str::of(granted.claims()))) }
}

/// A claim of an allowed token, as the text that a header would have: strings, numbers and booleans as they are, the rest as JSON.
///
/// # Arguments
/// - `name`, `name_len`: the claim
/// - `value`: receives the text
///
/// # Lifetimes
/// Valid until the next call with this check that is not const.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`: the token has no such claim, or one that has control characters or
/// cannot be told exactly; or the request passes by `report_only` alone, and has no claims.
///
/// # Safety
/// `check` is NULL or live; `name` has `name_len` readable bytes, `value` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_claim(
    check: *mut kb_check,
    name: *const u8,
    name_len: usize,
    value: *mut kb_str,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let (Some(check), Some(name)) = (unsafe { (check.as_mut(), bytes(name, name_len)) }) else {
            return KB_E_NULL;
        };
        let claim = match check.granted() {
            Ok(granted) => str::from_utf8(name).ok().and_then(|name| granted.claim(name)),
            Err(status) => return status,
        };
        match check.claim.insert(claim.unwrap_or_default()).as_bytes() {
            b"" => KB_E_RANGE,
            // SAFETY: the caller's.
            text => unsafe { write(value, kb_str::of(text)) },
        }
    })
}

/// A header of the allowed request: set it to the value, or remove it where the value is absent. Other headers of the client's stay, those
/// of `kb_engine_upstream_header()` aside. A request that passes by `report_only` has none.
///
/// # Arguments
/// - `index`: from 0, until `KB_E_RANGE`
/// - `name`, `value`: receive the header; both are written or neither
///
/// # Lifetimes
/// Valid until the check is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`.
///
/// # Safety
/// `check` is NULL or live; `name` and `value` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_header(
    check: *const kb_check,
    index: usize,
    name: *mut kb_str,
    value: *mut kb_str,
) -> i32 {
    // SAFETY: the caller's.
    unsafe {
        read_header(check, name, value, |check| {
            let (name, value) = check.granted()?.headers().nth(index).ok_or(KB_E_RANGE)?;
            Ok((kb_str::of(name.as_bytes()), kb_str::of_option(value.map(str::as_bytes))))
        })
    }
}

/// A header for the client, with `KB_STEP_ALLOW` and with `KB_STEP_RESPOND`: cookies, and where to go on, among others. `set-cookie` is added to
/// what the upstream says, and there may be several; any other is sent with this value, whatever the upstream said under that name. A
/// request that passes by `report_only` has none.
///
/// # Arguments
/// - `index`: from 0, until `KB_E_RANGE`
/// - `name`, `value`: receive the header; both are written or neither
///
/// # Lifetimes
/// Valid until the check is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is neither `KB_STEP_ALLOW` nor `KB_STEP_RESPOND`; `KB_E_RANGE`.
///
/// # Safety
/// `check` is NULL or live; `name` and `value` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_response_header(
    check: *const kb_check,
    index: usize,
    name: *mut kb_str,
    value: *mut kb_str,
) -> i32 {
    // SAFETY: the caller's.
    unsafe {
        read_header(check, name, value, |check| {
            let header = match check.check.step() {
                Step::Respond(response) => response.headers.get(index).map(|(name, value)| (*name, value.as_str())),
                _ => check.granted()?.response_headers().nth(index),
            };
            let (name, value) = header.ok_or(KB_E_RANGE)?;
            Ok((kb_str::of(name.as_bytes()), kb_str::of(value.as_bytes())))
        })
    }
}

/// The request to perform.
///
/// # Arguments
/// - `fetch`: set `struct_size`; the rest is filled. Headers are read with `kb_check_fetch_header()`
///
/// # Lifetimes
/// Valid until the next call with this check that is not const.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_STATE`: the step is not `KB_STEP_FETCH`.
///
/// # Safety
/// `check` is NULL or live; `fetch` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_fetch(check: *const kb_check, fetch: *mut kb_fetch) -> i32 {
    // SAFETY: the caller's.
    unsafe {
        read_step(check, fetch, |check| {
            let fetch = check.fetch()?;
            let (authority, target) = http::split(&fetch.url);
            Ok(kb_fetch {
                struct_size: size_of::<kb_fetch>(),
                method: kb_str::of(fetch.method.as_bytes()),
                url: kb_str::of(fetch.url.as_bytes()),
                body: kb_str::of_option((!fetch.body.is_empty()).then_some(&fetch.body)),
                issuer: kb_str::of_option(check.check.issuer(fetch).map(str::as_bytes)),
                endpoint: kb_str::of(fetch.endpoint.name().as_bytes()),
                flight: kb_str::of(&fetch.flight),
                max_body: fetch.max_body,
                tls: u32::try_from(fetch.tls).map_err(|_| KB_E_RANGE)?,
                connect_timeout_ms: fetch.timeouts.connect,
                send_timeout_ms: fetch.timeouts.send,
                read_timeout_ms: fetch.timeouts.read,
                timeout_ms: fetch.timeouts.total,
                once: u32::from(fetch.once),
                authority: kb_str::of(authority.as_bytes()),
                target: kb_str::of(target.as_bytes()),
            })
        })
    }
}

/// A header of the request to perform.
///
/// # Arguments
/// - `index`: from 0, until `KB_E_RANGE`
/// - `name`, `value`: receive the header; both are written or neither
///
/// # Lifetimes
/// Valid until the next call with this check that is not const.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_FETCH`; `KB_E_RANGE`.
///
/// # Safety
/// `check` is NULL or live; `name` and `value` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_fetch_header(
    check: *const kb_check,
    index: usize,
    name: *mut kb_str,
    value: *mut kb_str,
) -> i32 {
    // SAFETY: the caller's.
    unsafe {
        read_header(check, name, value, |check| {
            let (name, value) = check.fetch()?.headers.get(index).ok_or(KB_E_RANGE)?;
            Ok((kb_str::of(name.as_bytes()), kb_str::of(value.as_bytes())))
        })
    }
}

/// Takes the answer to `KB_STEP_FETCH`; then read the next step. A body that is larger than was asked for makes it `KB_FETCH_TOO_LARGE`.
///
/// # Arguments
/// - `now_s`: Unix time, seconds; greater than 0
/// - `answer`: what came; nothing of it is kept
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small, `now_s` is not set, no such outcome, or an answer without an HTTP status;
/// `KB_E_STATE`: the step is not `KB_STEP_FETCH`.
///
/// # Safety
/// `check` is NULL or live; `answer` is NULL or has the `struct_size` that it says, and its pointers the given lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_fetched(check: *mut kb_check, now_s: i64, answer: *const kb_answer) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(check) = (unsafe { check.as_mut() }).filter(|_| !answer.is_null()) else {
            return KB_E_NULL;
        };
        // SAFETY: the caller's, and not NULL.
        let answer = match unsafe { read_versioned(answer) } {
            Ok(answer) => answer,
            Err(status) => return status,
        };
        let Some(outcome) = outcome(answer.outcome).filter(|_| now_s > 0) else {
            return KB_E_ARGUMENT;
        };
        let status = u16::try_from(answer.status).ok().filter(|status| match outcome {
            Outcome::Answered => matches!(status, 100..=599),
            _ => *status == 0,
        });
        let Some(status) = status else {
            return KB_E_ARGUMENT;
        };
        // SAFETY: the caller's.
        let (content_type, retry_after, body) =
            unsafe { (answer.content_type.get(), answer.retry_after.get(), answer.body.get()) };
        let body = body.unwrap_or_default();
        let (outcome, status, body) = match check.fetch() {
            Ok(fetch) if body.len() > fetch.max_body => (Outcome::TooLarge, 0, &[][..]),
            _ => (outcome, status, body),
        };
        let answer = FetchAnswer {
            outcome,
            status,
            content_type: content_type.unwrap_or_default(),
            retry_after: retry_after.unwrap_or_default(),
            body,
            elapsed_us: answer.elapsed_us,
            joined: answer.joined != 0,
        };
        check.check.fetched(now_s, answer).map_or(KB_E_STATE, |()| KB_OK)
    })
}

fn outcome(number: u32) -> Option<Outcome> {
    Some(match number {
        KB_FETCH_ANSWERED => Outcome::Answered,
        KB_FETCH_RESOLVE => Outcome::Resolve,
        KB_FETCH_CONNECT => Outcome::Connect,
        KB_FETCH_TLS => Outcome::Tls,
        KB_FETCH_TIMEOUT => Outcome::Timeout,
        KB_FETCH_MALFORMED => Outcome::Malformed,
        KB_FETCH_TOO_LARGE => Outcome::TooLarge,
        KB_FETCH_BUSY => Outcome::Busy,
        _ => return None,
    })
}

/// The store operation to perform.
///
/// # Arguments
/// - `store`: set `struct_size`; the rest is filled
///
/// # Lifetimes
/// Valid until the next call with this check that is not const.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_STATE`: the step is not `KB_STEP_STORE`.
///
/// # Safety
/// `check` is NULL or live; `store` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_store(check: *const kb_check, store: *mut kb_store) -> i32 {
    // SAFETY: the caller's.
    unsafe {
        read_step(check, store, |check| match check.check.step() {
            Step::Store(store) => Ok(kb_store {
                struct_size: size_of::<kb_store>(),
                operation: match store.operation {
                    StoreOperation::Add => KB_STORE_ADD,
                    StoreOperation::Get => KB_STORE_GET,
                    StoreOperation::Put => KB_STORE_PUT,
                    StoreOperation::Delete => KB_STORE_DELETE,
                },
                ttl_s: store.ttl,
                delay_ms: store.delay_ms,
                flags: if store.is_cache { KB_STORE_CACHE } else { 0 },
                key: kb_str::of(&store.key),
                value: kb_str::of_option((!store.value.is_empty()).then_some(&store.value)),
            }),
            _ => Err(KB_E_STATE),
        })
    }
}

/// Takes the answer to `KB_STEP_STORE`; then read the next step.
///
/// # Arguments
/// - `now_s`: Unix time, seconds; greater than 0
/// - `answer`: `KB_STORED`, `KB_STORE_EXISTS`, `KB_STORE_FOUND`, `KB_STORE_ABSENT` or `KB_STORE_FAILED`
/// - `value`: the value with `KB_STORE_FOUND`, else absent; nothing of it is kept
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: no such answer, or `now_s` is not set; `KB_E_STATE`: the step is not `KB_STEP_STORE`.
///
/// # Safety
/// `check` is NULL or live; the pointer has the given length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_stored(check: *mut kb_check, now_s: i64, answer: u32, value: kb_str) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let (check, value) = unsafe { (check.as_mut(), value.get()) };
        let Some(check) = check else {
            return KB_E_NULL;
        };
        if now_s <= 0 {
            return KB_E_ARGUMENT;
        }
        let answer = match (answer, value) {
            (KB_STORED, _) => StoreAnswer::Done,
            (KB_STORE_EXISTS, _) => StoreAnswer::Exists,
            (KB_STORE_FOUND, Some(value)) => StoreAnswer::Found(value),
            (KB_STORE_FOUND, None) => return KB_E_NULL,
            (KB_STORE_ABSENT, _) => StoreAnswer::Absent,
            (KB_STORE_FAILED, _) => StoreAnswer::Failed,
            _ => return KB_E_ARGUMENT,
        };
        check.check.stored(now_s, answer).map_or(KB_E_STATE, |()| KB_OK)
    })
}

/// Frees a check. NULL does nothing.
///
/// # Safety
/// `check` is NULL, or came from this library and is not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_check_free(check: *mut kb_check) {
    // SAFETY: the caller's.
    unsafe { free_handle(check) };
}
