//! Files that are generated from the code and committed: the header, the LuaJIT declarations, two documents; and one that is generated from a
//! test's own idea of the rules.
//! `UPDATE=1 cargo test --test generated` writes them; without it a difference fails.

#[path = "dpop/table.rs"]
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn compare_or_write(name: &str, generated: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, generated).expect("writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{name} is not what the code generates: run `make header`");
}

fn header() -> String {
    let config = cbindgen::Config::from_file(path("cbindgen.toml")).expect("cbindgen.toml");
    let mut text = Vec::new();
    // Nothing but src/ffi is part of the ABI.
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(path("src/ffi/mod.rs"))
        .generate()
        .expect("the header generates")
        .write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

/// The header as LuaJIT's `ffi.cdef` takes it, and its constants as a table.
fn cdefs(header: &Path) -> String {
    let output = Command::new("cc").args(["-E", "-P", "-xc"]).arg(header).output().expect("a C compiler");
    assert!(output.status.success());
    let preprocessed = String::from_utf8(output.stdout).expect("UTF-8");
    let start = preprocessed.find("typedef struct kb_").expect("own declarations");
    let mut text = String::from(
        "-- Generated from include/keybound.h (`make header`); do not edit.\n\
         local ffi = require \"ffi\"\n\n\
         -- Declared once in a process: LuaJIT keeps the first declaration and says nothing.\n\
         if not pcall(ffi.typeof, \"kb_engine\") then\n  ffi.cdef [[\n",
    );
    text.push_str(preprocessed[start..].trim_end());
    text.push_str("\n]]\nend\n\nreturn {\n");
    for line in std::fs::read_to_string(header).expect("readable").lines() {
        if let Some((name, value)) = line.strip_prefix("#define KB_").and_then(|l| l.split_once(' ')) {
            text.push_str(&format!("  {name} = {},\n", value.trim()));
        }
    }
    text.push_str("}\n");
    text
}

#[test]
fn the_header_and_the_lua_declarations_are_generated() {
    compare_or_write("include/keybound.h", &header());
    compare_or_write("lua/resty/keybound/cdefs.lua", &cdefs(&path("include/keybound.h")));
}

#[test]
fn the_reasons_and_the_options_are_documented() {
    compare_or_write("docs/reasons.md", &keybound::reason::document());
    compare_or_write("docs/configuration.md", &keybound::engine::configuration_document());
}

#[test]
fn every_cell_of_the_downgrade_table_is_documented() {
    compare_or_write("docs/downgrade.md", &table::document());
}
