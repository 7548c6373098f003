//! The command line: what it prints, and 0 for allow, 1 for deny, 2 for an error.
#![cfg(feature = "cli")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{CLIENT_A, CLIENT_B, NOW, config, mint, x5t};
use serde_json::{Value, json};

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

fn pem(der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn thumbprint_prints_the_thumbprint_of_der_and_pem() {
    let folder = Folder::new("thumbprint");
    folder.write("a.pem", pem(CLIENT_A).as_bytes());
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
        ("--token -x --cert a.der", 1, "deny", "token_not_jwt"),
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
    for report in [allowed, denied] {
        assert_eq!(report["requests"], json!([]));
        assert_eq!(report["detail"], Value::Null);
    }
}

#[test]
fn check_says_what_would_only_be_reported_and_exits_as_for_the_refusal() {
    let folder = Folder::new("report");
    folder.write("config.json", &config(|c| c["report_only"] = true.into()));
    for (arguments, code, decision, reason, verified) in [
        ("--token @token --cert a.der", 0, "allow", "allowed", true),
        ("--token @token --cert b.der", 1, "report", "certificate_mismatch", false),
        ("--token @token", 1, "report", "certificate_missing", false),
    ] {
        let (status, report) = folder.check(arguments);
        assert_eq!(status, Some(code), "{arguments}");
        assert_eq!((&report["decision"], &report["reason"]), (&json!(decision), &json!(reason)), "{arguments}");
        assert_eq!((&report["claims_verified"], &report["claims"]["sub"]), (&json!(verified), &json!("alice")));
    }
    let (issuer, configuration) = nobody();
    let mut configuration: Value = serde_json::from_slice(&configuration).expect("JSON");
    configuration["report_only"] = true.into();
    folder.write("nobody.json", configuration.to_string().as_bytes());
    folder.write("ca.pem", pem(CLIENT_A).as_bytes());
    let output = folder.run("check --config nobody.json --token x --cert ca.pem");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((output.status.code(), &report["decision"]), (Some(2), &json!("report")));
    assert_eq!(report["detail"], format!("{issuer}/.well-known/openid-configuration: no connection"));
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

/// A configuration whose keys are to be fetched from an address where nobody is.
fn nobody() -> (String, Vec<u8>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("free");
    let issuer = format!("https://{}", listener.local_addr().expect("bound"));
    let configuration = json!({
        "issuer": issuer,
        "audience_required": ["https://api.test"],
        "client_id": "gateway",
        "client_secret": "a-secret-that-is-never-shown",
        "ssl_trusted_certificate": "ca.pem",
    });
    (issuer, configuration.to_string().into_bytes())
}

#[test]
fn a_server_that_cannot_be_asked_is_an_error_and_the_report_says_what_was_asked() {
    let folder = Folder::new("nobody");
    let (issuer, configuration) = nobody();
    folder.write("nobody.json", &configuration);
    folder.write("ca.pem", pem(CLIENT_A).as_bytes());
    let output = folder.run("check --config nobody.json --token x --cert ca.pem --verbose");
    assert_eq!(output.status.code(), Some(2));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((&report["decision"], &report["reason"]), (&json!("error"), &json!("metadata_unavailable")));
    assert_eq!(report["detail"], format!("{issuer}/.well-known/openid-configuration: no connection"));
    assert_eq!(report["claims_verified"], false);
    let requests = report["requests"].as_array().expect("an array");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0]["endpoint"], "metadata");
    assert_eq!(requests[0]["url"], format!("{issuer}/.well-known/openid-configuration"));
    assert_eq!((&requests[0]["outcome"], &requests[0]["status"]), (&json!("connect"), &Value::Null));
    assert!(requests[0]["ms"].is_u64());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("GET {issuer}/.well-known/openid-configuration: connect, ")), "{said}");

    for command in ["introspect --token x", "token", "revoke --token x"] {
        let output = folder.run(&format!("{command} --config nobody.json"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.starts_with("keybound: metadata_unavailable: ") && said.lines().count() == 1, "{command}: {said}");
        assert!(said.contains("no connection (127.0.0.1:"), "{command}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
    let folder = Folder::new("arguments");
    folder.write("nobody.json", &nobody().1);
    folder.write("ca.pem", pem(CLIENT_A).as_bytes());
    folder.write("empty", b"\n");
    let long = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
    let issuer = "--issuer https://127.0.0.1:1 --audience a";
    let client = "--client-id g --client-cert ca.pem --client-key ca.pem";
    for (arguments, message) in [
        ("check --token x", "<--config <FILE>|--issuer <URL>>"),
        ("check --config config.json --issuer https://as.test --audience a --token x", "cannot be used with"),
        ("check --issuer https://as.test --token x", "--audience <AUDIENCE>"),
        ("check --config config.json --audience a --token x", "cannot be used with"),
        ("check --config config.json --ca ca.pem --token x", "cannot be used with"),
        ("check --config config.json --client-id a --token x", "cannot be used with"),
        ("check --issuer http://as.test --audience a --token x", "command line: issuer: must be an https URL"),
        (&format!("check {issuer} --client-id g --token x"), "--client-cert <FILE>"),
        (&format!("check {issuer} --client-cert ca.pem --client-key ca.pem --token x"), "--client-id <ID>"),
        (&format!("check {issuer} {client} --token opaque --cert ca.pem --ca none"), "ssl_trusted_certificate: none: "),
        (
            &format!("check {issuer} {client} --token opaque --cert ca.pem --ca token"),
            "ssl_trusted_certificate: token: not certificates in PEM",
        ),
        ("introspect --token x", "--config <FILE>"),
        ("introspect --config nobody.json", "--token <TOKEN>"),
        ("introspect --config nobody.json --token @empty", "--token: not a token"),
        ("introspect --config nobody.json --token @a.der", "--token: not a token"),
        (
            "introspect --config nobody.json --token x --issuer https://other.test",
            "not an issuer of nobody.json, which has https://127",
        ),
        ("introspect --config config.json --token x", "internal_error"),
        ("token --config config.json", "client_refused: no client_id is configured for the issuer https://as.test"),
        ("token --config nobody.json --grant password", "client_credentials"),
        ("revoke --config nobody.json --token x --hint id_token", "access_token, refresh_token"),
        (&format!("introspect --config nobody.json {long}"), "unexpected argument '(not shown)'"),
        ("introspect --config nobody.json short", "unexpected argument '(not shown)'"),
        (&format!("introspect --config nobody.json --token x --at={long}"), "unexpected argument '--at'"),
        (&format!("check --config nobody.json --token x --at={long}"), "invalid value '(not shown)'"),
        (&format!("revoke --config nobody.json --token x --hint {long}"), "invalid value '(not shown)'"),
        (long, "unrecognized subcommand '(not shown)'"),
    ] {
        let output = folder.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(message), "{arguments}: {said}");
        assert!(!said.contains(long) && !said.contains("a-secret-that-is-never-shown"), "{arguments}: {said}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}

#[test]
fn help_says_what_the_exit_codes_mean() {
    let folder = Folder::new("help");
    for (command, promise) in [
        ("check", "Exits 0 for allow, 1 for deny, 2 for an error"),
        ("introspect", "Exits 0 for an active token, 1 for an inactive one, 2 for an error."),
        ("token", "Exits 0 for success, 2 for an error."),
        ("revoke", "Exits 0 for success, 2 for an error."),
    ] {
        let output = folder.run(&format!("{command} --help"));
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(promise), "{command}");
    }
}
