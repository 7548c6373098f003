//! The core does no I/O and keeps no state of its own: no module but the command line names what could.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "bin") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn core() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 15);
    found.into_iter().map(|p| (p.clone(), std::fs::read_to_string(&p).expect("readable"))).collect()
}

#[test]
fn the_core_names_no_socket_file_clock_thread_or_mutable_static() {
    for (path, text) in core() {
        for word in [
            "std::net",
            "std::fs",
            "std::thread",
            "std::process",
            "SystemTime",
            "Instant",
            "static mut",
            "thread_local",
            "println!",
        ] {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
        // The only statics never change: OpenSSL's functions, and the base64 decoder for this processor.
        let statics =
            text.lines().filter(|l| l.trim_start().starts_with("static ") || l.contains("pub static ")).count();
        let known = path.ends_with("ffi/openssl.rs") || path.ends_with("jose/b64.rs");
        assert_eq!(statics, usize::from(known), "{}", path.display());
    }
}

#[test]
fn unsafe_is_in_the_c_abi_alone_and_each_has_its_reason() {
    for (path, text) in core() {
        if !path.components().any(|c| c.as_os_str() == "ffi") {
            assert!(!text.contains("unsafe ") && !text.contains("unsafe{"), "{}", path.display());
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if line.contains("unsafe {") {
                let reason = lines[i.saturating_sub(4)..=i].iter().any(|l| l.contains("SAFETY:"));
                assert!(reason, "{}:{}: unsafe without SAFETY", path.display(), i + 1);
            }
        }
    }
}

#[test]
fn only_the_crypto_module_names_a_crypto_crate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/crypto/");
    for (path, text) in core() {
        let named = [" ring::", "(ring::", "aws_lc_rs", "use ring"].iter().any(|w| text.contains(w));
        // Its submodules take the backend from it.
        assert!(!named || path.starts_with(&folder), "{}", path.display());
        assert!(named || path != folder.join("mod.rs"), "the words of this test find nothing");
    }
}
