//! HTTP/1.1 framing for hosts that have a byte pipe and no HTTP client.

use super::check::{KB_FETCH_ANSWERED, kb_answer, kb_check};
use super::guard::guarded;
use super::{
    KB_E_HTTP, KB_E_NULL, KB_E_PANIC, KB_E_STATE, KB_E_TOO_LARGE, Versioned as _, bytes, free_handle, kb_str, write,
    write_versioned,
};
use crate::client::http::{Exchange, HttpError, Progress, Target};

/// `kb_exchange_received()`: more is to come.
pub const KB_EXCHANGE_MORE: u32 = 1;
/// `kb_exchange_received()`: the answer is complete.
pub const KB_EXCHANGE_DONE: u32 = 2;

/// One request and its answer on a connection that the host owns. One owner; used by one thread at a time.
pub struct kb_exchange {
    exchange: Exchange,
    target: Target,
}

fn status_of(error: HttpError) -> i32 {
    match error {
        HttpError::TooLarge => KB_E_TOO_LARGE,
        HttpError::Url | HttpError::Header | HttpError::Malformed | HttpError::Truncated => KB_E_HTTP,
    }
}

/// Frames the request of a check whose step is `KB_STEP_FETCH`. The check is not needed afterwards.
///
/// # Arguments
/// - `exchange`: receives the handle
///
/// # Returns
/// `KB_OK`; free the handle with `kb_exchange_free()`.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_STATE`: the step is another one; `KB_E_HTTP`: the URL or a header cannot be sent.
///
/// # Safety
/// `check` is NULL or live; `exchange` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_new(check: *const kb_check, exchange: *mut *mut kb_exchange) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(check) = (unsafe { check.as_ref() }).filter(|_| !exchange.is_null()) else {
            return KB_E_NULL;
        };
        let fetch = match check.fetch() {
            Ok(fetch) => fetch,
            Err(status) => return status,
        };
        let framed = Exchange::new(fetch.method, &fetch.url, &fetch.headers, &fetch.body, fetch.max_body)
            .and_then(|exchange| Ok(kb_exchange { exchange, target: Target::parse(&fetch.url)? }));
        match framed {
            // SAFETY: the caller's.
            Ok(handle) => unsafe { write(exchange, Box::into_raw(Box::new(handle))) },
            Err(error) => status_of(error),
        }
    })
}

/// Where to connect to.
///
/// # Arguments
/// - `host`: receives the host: a name, or an IP address without brackets
/// - `port`: receives the port
///
/// # Lifetimes
/// Valid until the exchange is freed.
///
/// # Errors
/// `KB_E_NULL`.
///
/// # Safety
/// `exchange` is NULL or live; `host` and `port` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_target(exchange: *const kb_exchange, host: *mut kb_str, port: *mut u32) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(exchange) = (unsafe { exchange.as_ref() }).filter(|_| !host.is_null() && !port.is_null()) else {
            return KB_E_NULL;
        };
        // SAFETY: the caller's, and not NULL.
        unsafe {
            write(host, kb_str::of(exchange.target.host.as_bytes()));
            write(port, u32::from(exchange.target.port))
        }
    })
}

/// The bytes to send, all of them.
///
/// # Arguments
/// - `request`: receives the bytes
///
/// # Lifetimes
/// Valid until the exchange is freed.
///
/// # Errors
/// `KB_E_NULL`.
///
/// # Safety
/// `exchange` is NULL or live; `request` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_request(exchange: *const kb_exchange, request: *mut kb_str) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        match unsafe { exchange.as_ref() } {
            // SAFETY: the caller's.
            Some(exchange) => unsafe { write(request, kb_str::of(exchange.exchange.request())) },
            None => KB_E_NULL,
        }
    })
}

/// Takes bytes as they came.
///
/// # Arguments
/// - `data`, `data_len`: what came
/// - `state`: receives `KB_EXCHANGE_MORE` or `KB_EXCHANGE_DONE`
///
/// # Errors
/// `KB_E_NULL`; `KB_E_HTTP`, `KB_E_TOO_LARGE`: close the connection, there will be no answer.
///
/// # Safety
/// `exchange` is NULL or live; `data` has `data_len` readable bytes; `state` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_received(
    exchange: *mut kb_exchange,
    data: *const u8,
    data_len: usize,
    state: *mut u32,
) -> i32 {
    // SAFETY: the caller's.
    unsafe { go_on(exchange, state, |exchange| Ok(exchange.received(bytes(data, data_len).ok_or(KB_E_NULL)?))) }
}

/// The server closed the connection, cleanly: after TLS `close_notify`. If it merely ended, the exchange has failed.
///
/// # Arguments
/// - `state`: receives `KB_EXCHANGE_DONE`
///
/// # Errors
/// `KB_E_NULL`; `KB_E_HTTP`: the answer is not complete.
///
/// # Safety
/// `exchange` is NULL or live; `state` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_closed(exchange: *mut kb_exchange, state: *mut u32) -> i32 {
    // SAFETY: the caller's.
    unsafe { go_on(exchange, state, |exchange| Ok(exchange.closed())) }
}

/// # Safety
/// `exchange` is NULL or live; `state` is NULL or writable.
unsafe fn go_on(
    exchange: *mut kb_exchange,
    state: *mut u32,
    step: impl FnOnce(&mut Exchange) -> Result<Result<Progress, HttpError>, i32>,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(exchange) = (unsafe { exchange.as_mut() }).filter(|_| !state.is_null()) else {
            return KB_E_NULL;
        };
        let reached = match step(&mut exchange.exchange) {
            Ok(Ok(Progress::More)) => KB_EXCHANGE_MORE,
            Ok(Ok(Progress::Done)) => KB_EXCHANGE_DONE,
            Ok(Err(error)) => return status_of(error),
            Err(status) => return status,
        };
        // SAFETY: the caller's.
        unsafe { write(state, reached) }
    })
}

/// The complete answer, ready for `kb_check_fetched()` but for `elapsed_us` and `joined`.
///
/// # Arguments
/// - `answer`: set `struct_size`; the rest is filled
///
/// # Lifetimes
/// Valid until the exchange is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_STATE`: it is not complete.
///
/// # Safety
/// `exchange` is NULL or live; `answer` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_answer(exchange: *const kb_exchange, answer: *mut kb_answer) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(exchange) = (unsafe { exchange.as_ref() }) else {
            return KB_E_NULL;
        };
        let Some(complete) = exchange.exchange.answer() else {
            return KB_E_STATE;
        };
        let present = |bytes: &[u8]| kb_str::of_option((!bytes.is_empty()).then_some(bytes));
        let value = kb_answer {
            struct_size: kb_answer::V1,
            outcome: KB_FETCH_ANSWERED,
            status: u32::from(complete.status),
            content_type: present(complete.content_type),
            retry_after: present(complete.retry_after),
            body: kb_str::of(complete.body),
            elapsed_us: 0,
            joined: 0,
        };
        // SAFETY: the caller's.
        unsafe { write_versioned(answer, value) }
    })
}

/// Whether the connection may carry another request.
///
/// # Returns
/// 1 or 0; 0 for NULL and after an internal error.
///
/// # Safety
/// `exchange` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_reusable(exchange: *const kb_exchange) -> u32 {
    // SAFETY: the caller's.
    guarded(0, || unsafe { exchange.as_ref() }.map_or(0, |exchange| u32::from(exchange.exchange.reusable())))
}

/// Frees an exchange. NULL does nothing.
///
/// # Safety
/// `exchange` is NULL, or came from this library and is not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_exchange_free(exchange: *mut kb_exchange) {
    // SAFETY: the caller's.
    unsafe { free_handle(exchange) };
}
