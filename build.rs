//! Gives the shared library its soname and keeps it mapped once loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The number follows KB_ABI_VERSION in src/ffi/mod.rs.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkeybound.so.1");
    // OpenSSL calls back into us when a connection with a remembered certificate is freed, at any later time.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
