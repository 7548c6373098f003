//! The command line: what it prints, and 0 for allow, 1 for deny, 2 for an error.
#![cfg(feature = "cli")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{CLIENT_A, CLIENT_B, NOW, config, mint, x5t};
use serde_json::Value;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("keybound-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("writable");
        let folder = Folder(path);
        folder.write("config.json", &config(|_| {}));
        folder.write("a.der", CLIENT_A);
        folder.write("b.der", CLIENT_B);
        folder.write("token", format!("{}\n", mint("ES256", |_| {})).as_bytes());
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).expect("writable");
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_keybound"))
            .args(arguments.split_whitespace())
            .current_dir(&self.0)
            .output()
            .expect("runs")
    }

    /// Exit code and report of `check`.
    fn check(&self, arguments: &str) -> (Option<i32>, Value) {
        let output = self.run(&format!("check --config config.json --at {NOW} {arguments}"));
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn thumbprint_prints_the_thumbprint_of_der_and_pem() {
    let folder = Folder::new("thumbprint");
    let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, CLIENT_A);
    folder.write("a.pem", format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n").as_bytes());
    for file in ["a.der", "a.pem"] {
        let output = folder.run(&format!("thumbprint {file}"));
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", x5t(CLIENT_A)));
    }
}

#[test]
fn check_exits_0_for_allow_and_1_for_deny_and_says_why() {
    let folder = Folder::new("check");
    for (arguments, code, decision, reason) in [
        ("--token @token --cert a.der", 0, "allow", "allowed"),
        ("--token @token --cert b.der", 1, "deny", "certificate_mismatch"),
        ("--token @token", 1, "deny", "certificate_missing"),
        ("--token @token --cert token", 1, "deny", "certificate_malformed"),
        ("--token x --cert a.der", 1, "deny", "token_not_jwt"),
    ] {
        let (status, report) = folder.check(arguments);
        assert_eq!(status, Some(code), "{arguments}");
        assert_eq!(report["decision"], decision, "{arguments}");
        assert_eq!(report["reason"], reason, "{arguments}");
    }
    let (_, allowed) = folder.check("--token @token --cert a.der");
    assert_eq!(allowed["claims"]["sub"], "alice");
    assert_eq!(allowed["claims_verified"], true);
    assert_eq!(allowed["certificate"]["x5t#S256"], x5t(CLIENT_A));
    let (_, denied) = folder.check("--token @token --cert b.der");
    assert_eq!(denied["claims"]["sub"], "alice");
    assert_eq!(denied["claims_verified"], false);
    assert_eq!(denied["certificate"]["x5t#S256"], x5t(CLIENT_B));
}

#[test]
fn the_time_can_be_given() {
    let folder = Folder::new("time");
    let at = |at: i64| {
        let output = folder.run(&format!("check --config config.json --token @token --cert a.der --at {at}"));
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()["reason"].clone()
    };
    assert_eq!(at(NOW), "allowed");
    assert_eq!(at(NOW + 600), "token_expired");
    assert_eq!(at(-5), "token_issued_in_future");
}

#[test]
fn what_keeps_it_from_deciding_exits_2_with_a_message() {
    let folder = Folder::new("error");
    folder.write("bad.json", b"{\"isuer\": 1}");
    for (arguments, message) in [
        ("check --config bad.json --token x", "did you mean issuer?"),
        ("check --config none.json --token x", "none.json: "),
        ("check --config config.json --token @none", "none: "),
        ("check --config config.json --token @token --cert none", "none: "),
        ("check --token x", "--config"),
        ("thumbprint none", "none: "),
        ("thumbprint token", "not exactly one DER value"),
        ("", "Usage"),
    ] {
        let output = folder.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(message), "{arguments}: {said}");
        assert!(output.stdout.is_empty());
    }
}
