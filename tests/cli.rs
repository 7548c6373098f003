//! The command line: what it prints, and 0 for allow, 1 for deny, 2 for an error.
#![cfg(feature = "cli")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{CLIENT_A, CLIENT_B, NOW, config, jwk, mint, pkcs8, x5t};
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
    labelled("CERTIFICATE", der)
}

fn labelled(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// The RFC 7638 thumbprint of the test key of ES256, from its text.
fn jkt() -> String {
    let jwk = jwk("ES256");
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
    x5t(canonical.as_bytes())
}

/// A folder for checks of proofs: the client's key is that of ES256, the thief's that of EdDSA; tokens that are bound to the client's key, to
/// it and the certificate, and to nothing.
fn dpop_folder(name: &str, change: impl FnOnce(&mut Value)) -> Folder {
    let folder = Folder::new(name);
    let text = config(|c| {
        c["proof_of_possession_dpop"] = "strict".into();
        c["public_origin"] = "https://api.test".into();
        change(c);
    });
    folder.write("config.json", &text);
    for (name, alg) in [("client", "ES256"), ("thief", "EdDSA")] {
        folder.write(&format!("{name}.pem"), labelled("PRIVATE KEY", pkcs8(alg)).as_bytes());
    }
    let bound = |cnf: Value| mint("ES256", |claims| claims["cnf"] = cnf);
    folder.write("bound", bound(json!({"jkt": jkt()})).as_bytes());
    folder.write("both", bound(json!({"jkt": jkt(), "x5t#S256": x5t(CLIENT_A)})).as_bytes());
    folder
}

impl Folder {
    /// A proof of [`NOW`], in a file.
    fn proof(&self, file: &str, arguments: &str) {
        self.proof_at(NOW, file, arguments);
    }

    fn proof_at(&self, at: i64, file: &str, arguments: &str) {
        let output = self.run(&format!("proof --at {at} {arguments}"));
        assert_eq!(output.status.code(), Some(0), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        self.write(file, &output.stdout);
    }
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
fn rfc7638_3_thumbprint_prints_that_of_a_key_private_or_public_jwk_or_pem() {
    let folder = Folder::new("jkt");
    folder.write("public.jwk", format!(" {}\n", jwk("ES256")).as_bytes());
    folder.write("private.jwk", include_bytes!("common/keys/p256.jwk"));
    folder.write("private.pem", labelled("PRIVATE KEY", pkcs8("ES256")).as_bytes());
    for file in ["public.jwk", "private.jwk", "private.pem"] {
        let output = folder.run(&format!("thumbprint {file}"));
        assert_eq!(output.status.code(), Some(0), "{file}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", jkt()), "{file}");
    }
}

#[test]
fn check_decides_about_a_proof_and_shows_what_is_in_it() {
    let folder = dpop_folder("dpop", |_| {});
    let (url, key) = ("--url https://api.test/a?b=c", "--key client.pem");
    folder.proof("own", &format!("{key} {url} --token @bound"));
    folder.proof("post", &format!("{key} {url} --token @bound --method POST"));
    folder.proof("stolen", &format!("--key thief.pem {url} --token @bound"));
    folder.proof("bare", &format!("{key} {url}"));
    folder.proof_at(NOW - 60, "late", &format!("{key} {url} --token @bound"));
    folder.proof_at(NOW - 61, "old", &format!("{key} {url} --token @bound"));
    for (arguments, code, reason) in [
        ("--url https://api.test/a?b=c --dpop @own", 0, "allowed"),
        ("--url HTTPS://API.test:443/x/../a --dpop @own", 0, "allowed"),
        ("--url https://api.test/b --dpop @own", 1, "proof_uri_mismatch"),
        // The origin is the configured one, whatever a request says.
        ("--url https://other.test/a --dpop @own", 0, "allowed"),
        ("--url http://api.test/a --dpop @own", 1, "proof_over_plain_http"),
        ("--url https://api.test/a --dpop @own --method POST", 1, "proof_method_mismatch"),
        ("--url https://api.test/a --dpop @post --method POST", 0, "allowed"),
        ("--url https://api.test/a --dpop @own --scheme bearer", 1, "dpop_scheme_required"),
        ("--url https://api.test/a --scheme dpop", 1, "proof_missing"),
        ("", 1, "dpop_scheme_required"),
        ("--url https://api.test/a --dpop @stolen", 1, "proof_key_mismatch"),
        ("--url https://api.test/a --dpop @late", 0, "allowed"),
        ("--url https://api.test/a --dpop @old", 1, "proof_expired"),
        ("--url https://api.test/a --dpop @bare", 1, "proof_malformed"),
        ("--url https://api.test/a --dpop junk", 1, "proof_malformed"),
    ] {
        let (status, report) = folder.check(&format!("--token @bound {arguments}"));
        assert_eq!((status, &report["reason"]), (Some(code), &json!(reason)), "{arguments}");
    }
    let (_, allowed) = folder.check(&format!("--token @bound {url} --dpop @own"));
    let proof = &allowed["proof"];
    assert_eq!((&proof["jkt"], &proof["typ"], &proof["alg"]), (&json!(jkt()), &json!("dpop+jwt"), &json!("ES256")));
    assert_eq!((&proof["claims_verified"], &allowed["claims_verified"]), (&json!(true), &json!(true)));
    assert_eq!((&proof["claims"]["htm"], &proof["claims"]["htu"]), (&json!("GET"), &json!("https://api.test/a")));
    assert_eq!((&proof["claims"]["iat"], &proof["replay"]), (&json!(NOW), &json!("not checked")));
    let (_, denied) = folder.check(&format!("--token @bound --dpop @own {}", url.replace("/a", "/b")));
    assert_eq!(denied["detail"], "the request was for https://api.test/b");
    assert_eq!((&denied["proof"]["claims_verified"], &denied["proof"]["jkt"]), (&json!(false), &json!(jkt())));
    let (_, junk) = folder.check(&format!("--token @bound {url} --dpop junk"));
    assert_eq!((&junk["proof"]["jkt"], &junk["proof"]["claims"]), (&Value::Null, &Value::Null));
    let (_, without) = folder.check("--token @bound");
    assert_eq!(without["proof"], Value::Null);
}

#[test]
fn check_looks_at_a_proof_only_where_the_token_came_with_its_scheme() {
    let folder = dpop_folder("scheme", |c| c["proof_of_possession_dpop"] = "optional".into());
    folder.write("none", mint("ES256", |claims| _ = claims.as_object_mut().expect("object").remove("cnf")).as_bytes());
    let (status, report) = folder.check("--token @none --url https://api.test/a --dpop junk --scheme bearer");
    assert_eq!((status, &report["proof"]["claims_verified"]), (Some(0), &json!(false)));
    let (status, report) = folder.check("--token @none --url https://api.test/a --dpop junk");
    assert_eq!((status, &report["reason"]), (Some(1), &json!("token_not_dpop_bound")));
}

#[test]
fn check_decides_as_a_gateway_behind_a_proxy_does() {
    let url = "--url https://api.test/base/a";
    for (name, change) in [
        ("prefix", json!({"public_path_prefix": "/base"})),
        ("proxy", json!({"public_origin": null, "trusted_ips": ["10.0.0.0/8"]})),
        ("socket", json!({"public_origin": null, "trusted_ips": ["unix:"]})),
        ("prefix-and-proxy", json!({"public_origin": null, "public_path_prefix": "/base", "trusted_ips": ["::1"]})),
    ] {
        let folder = dpop_folder(name, |c| {
            for (option, value) in change.as_object().expect("object") {
                match value {
                    Value::Null => _ = c.as_object_mut().expect("object").remove(option),
                    value => c[option] = value.clone(),
                }
            }
        });
        folder.proof("own", &format!("--key client.pem {url} --token @bound"));
        let check = |url: &str| folder.check(&format!("--token @bound --dpop @own {url}")).1["reason"].clone();
        assert_eq!(check(url), "allowed", "{name}");
        assert_eq!(check("--url https://api.test/base/b"), "proof_uri_mismatch", "{name}");
        let outside = folder.run(&format!(
            "check --config config.json --at {NOW} --token @bound --dpop @own --url https://api.test/based"
        ));
        let stderr = String::from_utf8_lossy(&outside.stderr);
        if name.starts_with("prefix") {
            // No client of this gateway uses it.
            assert!(stderr.contains("below public_path_prefix"), "{name}: {stderr}");
            folder.proof("own", "--key client.pem --url https://api.test/base/ --token @bound");
            assert_eq!(check("--url https://api.test/base"), "allowed", "{name}");
        } else {
            assert_eq!(outside.status.code(), Some(1), "{name}: {stderr}");
        }
    }
}

#[test]
fn check_needs_no_secret_of_the_store_and_tells_the_nonce() {
    let folder = dpop_folder("nonce", |c| {
        c["dpop_use_nonce"] = true.into();
        c["dpop_nonce_secret"] = "0123456789abcdef0123456789abcdef".into();
    });
    let configuration = std::fs::read(folder.0.join("config.json")).expect("readable");
    assert!(keybound::Engine::new(&configuration).is_err_and(|e| e.to_string().starts_with("store_secret: required")));
    let make = |nonce: &str| {
        folder.proof("own", &format!("--key client.pem --url https://api.test/a --token @bound {nonce}"));
        folder.check("--token @bound --url https://api.test/a --dpop @own")
    };
    let (status, refused) = make("");
    assert_eq!((status, &refused["reason"]), (Some(1), &json!("proof_nonce_missing")));
    let nonce = refused["dpop_nonce"].as_str().expect("a nonce");
    let (status, allowed) = make(&format!("--nonce {nonce}"));
    assert_eq!((status, &allowed["proof"]["claims"]["nonce"]), (Some(0), &json!(nonce)));
    assert_eq!(allowed["dpop_nonce"], Value::Null);
    let forged = if nonce.ends_with('A') { "B" } else { "A" };
    let (_, refused) = make(&format!("--nonce {}{forged}", &nonce[..nonce.len() - 1]));
    assert_eq!(refused["reason"], "proof_nonce_invalid");
}

#[test]
fn without_a_configuration_a_proof_is_checked_and_a_certificate_where_the_token_names_one() {
    let folder = dpop_folder("without", |_| {});
    // What nothing is wrong with gets as far as the server that is not there.
    let (issuer, _) = nobody();
    let url = "--url https://api.test/a";
    for (name, cnf) in [
        ("bound", json!({"jkt": jkt()})),
        ("both", json!({"jkt": jkt(), "x5t#S256": x5t(CLIENT_A)})),
        ("mtls", json!({"x5t#S256": x5t(CLIENT_A)})),
    ] {
        let token = mint("ES256", |claims| (claims["iss"], claims["cnf"]) = (json!(issuer), cnf));
        folder.write(name, token.as_bytes());
        folder.proof(&format!("{name}.proof"), &format!("--key client.pem {url} --token @{name}"));
    }
    folder.proof("stolen.proof", &format!("--key thief.pem {url} --token @bound"));
    folder.write("ca.pem", pem(CLIENT_A).as_bytes());
    let run = |arguments: &str| {
        let common = format!("check --issuer {issuer} --audience https://api.test --ca ca.pem --at {NOW}");
        folder.run(&format!("{common} {arguments}"))
    };
    for (arguments, reason) in [
        (format!("--token @bound --dpop @bound.proof {url}"), "keys_unavailable"),
        (format!("--token @bound --dpop @stolen.proof {url}"), "proof_key_mismatch"),
        ("--token @bound --dpop @bound.proof --url http://api.test/a".to_owned(), "proof_over_plain_http"),
        (format!("--token @bound --scheme dpop {url}"), "proof_missing"),
        (format!("--token @both --dpop @both.proof {url} --cert a.der"), "keys_unavailable"),
        (format!("--token @both --dpop @both.proof {url} --cert b.der"), "certificate_mismatch"),
        (format!("--token @both --dpop @both.proof {url}"), "certificate_missing"),
        (format!("--token @mtls --dpop @mtls.proof {url} --cert a.der"), "token_not_dpop_bound"),
        // As ever.
        ("--token @mtls --cert a.der".to_owned(), "keys_unavailable"),
        ("--token @bound --cert a.der".to_owned(), "confirmation_unsupported"),
    ] {
        let output = run(&arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(report["reason"], reason, "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = run("--token @bound --scheme dpop");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--url is required"));
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
    folder.write("secret.json", &config(|c| c["store_secret"] = "short".into()));
    for (arguments, message) in [
        ("check --config bad.json --token x", "did you mean issuer?"),
        ("check --config secret.json --token x", "secret.json: store_secret: must have at least 32 characters"),
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
    folder.write("p256.jwk", include_bytes!("common/keys/p256.jwk"));
    folder.write("set.jwk", b"{\"keys\": []}");
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
        ("check --config config.json --token x --dpop x", "--url <URL>"),
        ("check --config config.json --token x --dpop x --url /a", "--url: /a: must be absolute"),
        ("check --config config.json --token x --dpop x --url https:///a", "must be absolute"),
        ("check --config config.json --token x --scheme mac", "bearer, dpop"),
        ("proof --key none --url https://api.test/", "none: "),
        ("proof --key token --url https://api.test/", "token: a private key is exactly one PEM block"),
        ("proof --key a.der --url https://api.test/", "a.der: neither a JWK nor PEM"),
        ("proof --key p256.jwk --url https://api.test/ --alg none", "--alg: not a signature algorithm"),
        ("proof --key p256.jwk --url https://api.test/ --alg RS256", "the key makes no signatures of RS256"),
        ("proof --key p256.jwk", "--url <URL>"),
        ("thumbprint set.jwk", "set.jwk: \"kty\" is missing"),
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
        ("proof", "Exits 0 for success, 2 for an error."),
        ("token", "Exits 0 for success, 2 for an error."),
        ("revoke", "Exits 0 for success, 2 for an error."),
    ] {
        let output = folder.run(&format!("{command} --help"));
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(promise), "{command}");
    }
}
