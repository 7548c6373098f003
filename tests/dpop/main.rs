//! DPoP (RFC 9449), with a host that is a script: each check of §4.3 beside a request that passes and differs in that one thing.

#[path = "../common/mod.rs"]
mod common;

mod checks;
mod downgrade;
mod introspected;
mod nonces;
mod replay;
mod requests;
mod table;
mod uris;
mod world;
