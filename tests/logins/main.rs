//! Sessions, logins, grants and logouts, with a host that is a script. Each rule is a test of its own, beside one that allows.

#[path = "../common/mod.rs"]
mod common;

mod callback;
mod grants;
mod logout;
mod proofs;
mod reasons;
mod refresh;
mod session;
mod start;
mod store;
mod world;
