//! What an engine counts.

use super::engine::kb_engine;
use super::guard::guarded;
use super::{KB_E_NULL, KB_E_PANIC, KB_E_RANGE, KB_OK, Versioned, kb_str, write_versioned};

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
        let described = engine.counters.get_or_init(|| engine.engine.describe_counters());
        match described.get(index) {
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
