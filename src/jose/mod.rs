//! JOSE as far as a verifier needs it: strict base64url, strict JSON, compact JWS and JWK sets.

pub(crate) mod b64;
pub(crate) mod claims;
pub mod json;
pub mod jwk;
pub(crate) mod jws;
mod private;
pub mod proof;
