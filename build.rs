//! Gives the shared library its soname and keeps it mapped once loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Cargo hands these on to libraries that contain this one and have no C ABI (mlua): they are not to pass for it.
    if std::env::var_os("CARGO_FEATURE_CAPI").is_none() {
        return;
    }
    // The number follows KB_ABI_VERSION in src/ffi/mod.rs.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkeybound.so.1");
    // OpenSSL calls back into us when a connection with a remembered certificate is freed, at any later time.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
