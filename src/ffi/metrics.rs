//! What an engine counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::kb_engine;
use super::guard::guarded;
use super::{
    KB_E_ARGUMENT, KB_E_NULL, KB_E_PANIC, KB_E_RANGE, KB_OK, Versioned, free_handle, kb_str, write, write_versioned,
};
use crate::crypto;
use crate::metrics::Page;

/// What a counter counts, in the terms of OpenMetrics. Set `struct_size` first; the rest is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_counter {
    /// `sizeof(kb_counter)` as the caller compiled it
    pub struct_size: usize,
    /// The metric family
    pub family: kb_str,
    /// Its type: "counter" or "histogram"
    pub kind: kb_str,
    /// What it is, in a sentence
    pub help: kb_str,
    /// The sample: name and labels, as they are written on the page
    pub sample: kb_str,
    /// What the value is to be divided by on the page
    pub divisor: u32,
    /// 0
    pub reserved: u32,
}

impl Versioned for kb_counter {
    const V1: usize = std::mem::offset_of!(kb_counter, reserved) + size_of::<u32>();
}

/// What the counter at `index` counts. Counters of one family lie next to each other.
///
/// # Arguments
/// - `index`: from 0, until `KB_E_RANGE`
/// - `counter`: set `struct_size`; the rest is filled
///
/// # Lifetimes
/// Valid until the engine is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_RANGE`.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `counter` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_counter(engine: *const kb_engine, index: usize, counter: *mut kb_counter) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }) else {
            return KB_E_NULL;
        };
        match engine.described().get(index) {
            Some(own) => {
                let value = kb_counter {
                    struct_size: kb_counter::V1,
                    family: kb_str::of(own.family.as_bytes()),
                    kind: kb_str::of(own.kind.as_bytes()),
                    help: kb_str::of(own.help.as_bytes()),
                    sample: kb_str::of(own.sample.as_bytes()),
                    divisor: own.divisor,
                    reserved: 0,
                };
                // SAFETY: the caller's.
                unsafe { write_versioned(counter, value) }
            }
            None => KB_E_RANGE,
        }
    })
}

/// The values of all counters. They only ever grow, in this process: to sum up processes, add what they grew by.
///
/// # Arguments
/// - `values`: receives them, in the order of `kb_engine_counter()`
/// - `count`: room in `values`; if it is not enough, nothing is written
/// - `needed`: receives how many there are
///
/// # Errors
/// `KB_E_NULL`; `KB_E_RANGE`: there are more than `count`.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `values` has room for `count`; `needed` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_counters(
    engine: *const kb_engine,
    values: *mut u64,
    count: usize,
    needed: *mut usize,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }).filter(|_| !needed.is_null()) else {
            return KB_E_NULL;
        };
        let current: Vec<u64> = engine.engine.counters().collect();
        // SAFETY: not NULL, and writable as the caller says.
        unsafe { needed.write(current.len()) };
        if current.len() > count {
            return KB_E_RANGE;
        }
        if values.is_null() {
            return KB_E_NULL;
        }
        // SAFETY: there is room for them, as the caller says.
        unsafe { std::ptr::copy_nonoverlapping(current.as_ptr(), values, current.len()) };
        KB_OK
    })
}

/// A name for what the engine counts: engines with the same one have the same counters in the same order.
///
/// # Arguments
/// - `name`: receives 32 octets, which are no key of `kb_store`
///
/// # Errors
/// `KB_E_NULL`.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `name` has room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_counters_name(engine: *const kb_engine, name: *mut [u8; 32]) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }) else {
            return KB_E_NULL;
        };
        let samples: Vec<&str> = engine.described().iter().map(|counter| counter.sample.as_str()).collect();
        let own = crypto::sha256(format!("keybound counters {}", samples.join("\n")).as_bytes());
        // SAFETY: the caller's.
        unsafe { write(name, own) }
    })
}

/// Adds what the counters grew by since the last call to sums that processes share, by atomic additions.
///
/// # Arguments
/// - `sums`, `count`: as many as `kb_engine_counters()` gives, in its order; 0 in the beginning
///
/// # Errors
/// `KB_E_NULL`; `KB_E_RANGE`: `count` is not how many there are; `KB_E_ARGUMENT`: `sums` is not aligned to 8 octets.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `sums` has `count` elements, which nobody writes but by atomic additions meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_publish(engine: *const kb_engine, sums: *mut u64, count: usize) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }).filter(|_| !sums.is_null()) else {
            return KB_E_NULL;
        };
        if !sums.cast::<AtomicU64>().is_aligned() {
            return KB_E_ARGUMENT;
        }
        let Ok(mut published) = engine.published.lock() else {
            return KB_E_PANIC;
        };
        let current: Vec<u64> = engine.engine.counters().collect();
        if current.len() != count {
            return KB_E_RANGE;
        }
        published.resize(count, 0);
        // SAFETY: there are that many, aligned, and others only add to them, as the caller says.
        let sums = unsafe { std::slice::from_raw_parts(sums.cast::<AtomicU64>(), count) };
        for ((sum, now), before) in sums.iter().zip(current).zip(published.iter_mut()) {
            sum.fetch_add(now.saturating_sub(*before), Ordering::Relaxed);
            *before = now;
        }
        KB_OK
    })
}

/// Counters of engines, as they are written in OpenMetrics text. One owner; used by one thread at a time.
pub struct kb_page {
    page: Page,
    text: String,
}

/// Makes an empty page.
///
/// # Arguments
/// - `page`: receives the handle
///
/// # Returns
/// `KB_OK`; free the handle with `kb_page_free()`.
///
/// # Errors
/// `KB_E_NULL`.
///
/// # Safety
/// `page` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_page_new(page: *mut *mut kb_page) -> i32 {
    guarded(KB_E_PANIC, || {
        if page.is_null() {
            return KB_E_NULL;
        }
        let own = kb_page { page: Page::default(), text: String::new() };
        // SAFETY: not NULL, and writable as the caller says.
        unsafe { write(page, Box::into_raw(Box::new(own))) }
    })
}

/// Puts the counters of an engine on the page. Where another engine has the same sample, the page has the sum.
///
/// # Arguments
/// - `values`, `count`: the values, of all processes together, in the order of `kb_engine_counter()`
///
/// # Errors
/// `KB_E_NULL`; `KB_E_RANGE`: `count` is not how many there are.
///
/// # Safety
/// `page` and `engine` are live; `values` has `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_page_add(
    page: *mut kb_page,
    engine: *const kb_engine,
    values: *const u64,
    count: usize,
) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let (Some(page), Some(engine), false) = (unsafe { (page.as_mut(), engine.as_ref(), values.is_null()) }) else {
            return KB_E_NULL;
        };
        let described = engine.described();
        if described.len() != count {
            return KB_E_RANGE;
        }
        // SAFETY: the caller's, and not NULL.
        let values = unsafe { std::slice::from_raw_parts(values, count) };
        page.page.add(described, values);
        KB_OK
    })
}

/// The page. Counters that never counted are left out; a histogram is there with all its buckets.
///
/// # Arguments
/// - `text`: receives the text, whose type is `application/openmetrics-text; version=1.0.0; charset=utf-8`
///
/// # Lifetimes
/// Valid until the next call with this page.
///
/// # Errors
/// `KB_E_NULL`.
///
/// # Safety
/// `page` is live; `text` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_page_text(page: *mut kb_page, text: *mut kb_str) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(page) = (unsafe { page.as_mut() }) else {
            return KB_E_NULL;
        };
        page.text = page.page.to_string();
        // SAFETY: the caller's.
        unsafe { write(text, kb_str::of(page.text.as_bytes())) }
    })
}

/// Frees a page. NULL does nothing.
///
/// # Safety
/// `page` is NULL, or came from `kb_page_new()` and is not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_page_free(page: *mut kb_page) {
    // SAFETY: the caller's.
    unsafe { free_handle(page) };
}
