//! keybound lets a request through a gateway only if the client proves that it holds the key its access token is bound to:
//! the client certificate of the TLS connection (RFC 8705), or the key of a DPoP proof (RFC 9449).
//!
//! The library does no I/O: it opens no socket and no file, reads no clock and starts no thread. A host hands it the
//! facts of one request and does what the answer says. Three layers, each usable alone:
//!
//! 1. **Primitives**: [`cert::Thumbprint`], [`jose::jwk::thumbprint`], [`binding::Confirmation`].
//! 2. **[`Verifier`]**: token, certificate and time in; decision and claims out.
//! 3. **[`Engine`] and [`Check`]**: one request through the gateway, with cache, answers and steps.
//!
//! The driver's obligation: after each call that succeeds, read [`Check::step`], do what it says exactly once, and feed
//! the answer back. Anything but [`Step::Allow`] is a refusal, and so is an error, a panic, or stopping half way; only with `report_only`
//! a refused request goes on as [`Step::Report`].

#![deny(unsafe_code, unreachable_pub)]
// No input may panic; tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

#[cfg(not(any(feature = "ring", feature = "aws-lc")))]
compile_error!("keybound needs a crypto backend: enable the feature `ring` or `aws-lc`");

pub mod binding;
pub mod cert;
pub mod client;
pub mod crypto;
pub mod engine;
#[cfg(feature = "capi")]
#[allow(unsafe_code)]
pub mod ffi;
pub mod jose;
pub mod metrics;
pub mod reason;
pub(crate) mod session;
pub mod steps;
pub mod token;

pub use engine::{Check, Config, ConfigError, Decision, Engine, Request, Step, Verifier};
pub use reason::{Answer, Reason};

/// The version of this library.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
