//! The panic boundary of every export.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of an export; if it panics, the export returns `otherwise`.
///
/// State that a panic could leave half changed is the caller's to guard: a check leaves a refusal behind before it goes on,
/// and the cache's mutex is poisoned and not used again.
pub(super) fn guarded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    let result = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "panic-injection")]
        inject();
        body()
    }));
    match result {
        Ok(value) => value,
        Err(payload) => {
            // Dropping it could panic again.
            std::mem::forget(payload);
            otherwise
        }
    }
}

#[cfg(feature = "panic-injection")]
#[allow(clippy::panic)]
fn inject() {
    if std::env::var_os("KEYBOUND_PANIC").is_some() {
        panic!("injected");
    }
}
