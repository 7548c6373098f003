//! The engine as a client of authorization servers, with a host that is a script: no network, so every order of events can be had.

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{AUDIENCE, CLIENT_A, CLIENT_B, ISSUER, NOW, b64, header, mint, mint_raw, named_jwk, without, x5t};
use keybound::cert::ClientCertificate;
use keybound::engine::{Call, CallStep};
use keybound::steps::{Endpoint, Fetch, FetchAnswer, Outcome, Store, StoreAnswer, StoreOperation};
use keybound::{Check, Engine, Reason, Request, Step};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OPAQUE: &str = "opaque-token/+==";

/// What a URL answers.
#[derive(Clone)]
enum Page {
    Json(Value),
    Text(u16, &'static str, String),
    Retry(u16, &'static str),
    Fails(Outcome),
}

/// The world outside: servers and a store, and a log of what was asked.
#[derive(Default)]
struct World {
    pages: HashMap<String, Page>,
    store: HashMap<[u8; 32], Vec<u8>>,
    store_fails: bool,
    /// Lifetimes of what was put into the store, in seconds.
    ttls: Vec<u32>,
    fetched: Vec<Fetch>,
}

impl World {
    fn new(pages: &[(&str, Page)]) -> World {
        let pages = pages.iter().map(|(url, page)| ((*url).to_owned(), page.clone())).collect();
        World { pages, ..World::default() }
    }

    /// A server with metadata and these keys.
    fn with_keys(algorithms: &[&str]) -> World {
        World::new(&[(DISCOVERY, metadata(|_| {})), (JWKS, keys(algorithms)), (INTROSPECTION, active(|_| {}))])
    }

    fn set(&mut self, url: &str, page: Page) {
        self.pages.insert(url.to_owned(), page);
    }

    fn urls(&mut self) -> Vec<String> {
        self.fetched.drain(..).map(|fetch| fetch.url).collect()
    }

    /// Takes one step of a check; false when it is decided.
    fn step(&mut self, check: &mut Check, now: i64) -> bool {
        match check.step() {
            Step::Allow(_) | Step::Report(_) | Step::Respond(_) => return false,
            Step::Fetch(fetch) => {
                let fetch = fetch.clone();
                self.answer(&fetch, |answer| check.fetched(now, answer).expect("a fetch"));
            }
            Step::Store(store) => {
                let store = store.clone();
                self.operate(&store, |answer| check.stored(now, answer).expect("a store"));
            }
        }
        true
    }

    fn run(&mut self, check: &mut Check, now: i64) -> Reason {
        for _ in 0..1000 {
            if !self.step(check, now) {
                return check.reason().expect("decided");
            }
        }
        panic!("too many steps")
    }

    fn answer(&mut self, fetch: &Fetch, give: impl FnOnce(FetchAnswer<'_>)) {
        self.fetched.push(fetch.clone());
        let found = self.pages.get(&fetch.url).cloned().unwrap_or(Page::Text(404, "text/html", String::new()));
        let good = FetchAnswer { elapsed_us: 1000, ..FetchAnswer::failed(Outcome::Answered) };
        match &found {
            Page::Json(value) => {
                let body = value.to_string();
                give(FetchAnswer { status: 200, content_type: b"application/json", body: body.as_bytes(), ..good });
            }
            Page::Text(status, content_type, body) => give(FetchAnswer {
                status: *status,
                content_type: content_type.as_bytes(),
                body: body.as_bytes(),
                ..good
            }),
            Page::Retry(status, after) => {
                give(FetchAnswer { status: *status, retry_after: after.as_bytes(), ..good });
            }
            Page::Fails(outcome) => give(FetchAnswer::failed(*outcome)),
        }
    }

    fn operate(&mut self, store: &Store, give: impl FnOnce(StoreAnswer<'_>)) {
        assert!(store.ttl >= 1);
        if self.store_fails {
            return give(StoreAnswer::Failed);
        }
        match store.operation {
            StoreOperation::Add if self.store.contains_key(&store.key) => give(StoreAnswer::Exists),
            StoreOperation::Add | StoreOperation::Put => {
                self.ttls.push(store.ttl);
                self.store.insert(store.key, store.value.clone());
                give(StoreAnswer::Done);
            }
            StoreOperation::Get => match self.store.get(&store.key) {
                Some(value) => give(StoreAnswer::Found(value)),
                None => give(StoreAnswer::Absent),
            },
            StoreOperation::Delete => {
                self.store.remove(&store.key);
                give(StoreAnswer::Done);
            }
        }
    }
}

const DISCOVERY: &str = "https://as.test/.well-known/openid-configuration";
const RFC8414: &str = "https://as.test/.well-known/oauth-authorization-server";
const JWKS: &str = "https://as.test/jwks";
const INTROSPECTION: &str = "https://as.test/introspect";
const ALIAS: &str = "https://as.test:8443/introspect";

fn metadata(change: impl FnOnce(&mut Value)) -> Page {
    let mut document = json!({
        "issuer": ISSUER, "jwks_uri": JWKS, "introspection_endpoint": INTROSPECTION, "token_endpoint": "https://as.test/token",
        "revocation_endpoint": "https://as.test/revoke", "mtls_endpoint_aliases": {"introspection_endpoint": ALIAS},
    });
    change(&mut document);
    Page::Json(document)
}

fn keys(algorithms: &[&str]) -> Page {
    Page::Json(json!({"keys": algorithms.iter().map(|alg| named_jwk(alg)).collect::<Vec<_>>()}))
}

fn active(change: impl FnOnce(&mut Value)) -> Page {
    let mut response = json!({
        "active": true, "iss": ISSUER, "aud": AUDIENCE, "client_id": "app", "scope": "read", "exp": NOW + 600, "token_type": "Bearer",
        "cnf": {"x5t#S256": x5t(CLIENT_A)},
    });
    change(&mut response);
    Page::Json(response)
}

/// A gateway that fetches keys, and introspects with a secret.
fn engine(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    let mut config = json!({
        "issuer": ISSUER, "audience_required": [AUDIENCE], "client_id": "gateway", "client_secret": "secret",
    });
    change(&mut config);
    match Engine::new(config.to_string().as_bytes()) {
        Ok(engine) => Arc::new(engine),
        Err(e) => panic!("{e}"),
    }
}

fn begin_with(engine: &Arc<Engine>, token: &str, certificate: Option<&[u8]>, now: i64) -> Check {
    let authorization = format!("Bearer {token}");
    engine.begin(&Request {
        now,
        authorization: Some(authorization.as_bytes()),
        authorization_count: 1,
        query: b"",
        certificate: certificate.map_or(ClientCertificate::Absent, ClientCertificate::Der),
        early_data: false,
        http: None,
    })
}

fn begin(engine: &Arc<Engine>, token: &str, now: i64) -> Check {
    begin_with(engine, token, Some(CLIENT_A), now)
}

fn decide(world: &mut World, engine: &Arc<Engine>, token: &str, now: i64) -> Reason {
    world.run(&mut begin(engine, token, now), now)
}

fn jwt(alg: &str) -> String {
    mint(alg, |_| {})
}

// --- Keys

#[test]
fn keys_are_fetched_when_first_needed_and_then_known() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, JWKS]);
    assert_eq!(decide(&mut world, &engine, &mint("EdDSA", |c| c["jti"] = "2".into()), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
}

#[test]
fn no_discovery_where_everything_is_configured() {
    let engine = engine(|c| {
        c["jwks_uri"] = JWKS.into();
        c["introspection_endpoint"] = INTROSPECTION.into();
    });
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    assert_eq!(world.urls(), [JWKS, INTROSPECTION]);
}

#[test]
fn rfc8414_3_1_a_where_openid_connect_has_nothing_rfc8414_is_asked() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    let document = world.pages.remove(DISCOVERY).expect("there");
    world.set(RFC8414, document);
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, RFC8414, JWKS]);
}

#[test]
fn rfc8414_3_3_a_metadata_of_another_issuer_is_not_used() {
    for document in [
        metadata(|m| m["issuer"] = "https://as.test/".into()),
        metadata(|m| without(m, "issuer")),
        metadata(|m| m["jwks_uri"] = "http://as.test/jwks".into()),
        metadata(|m| m["jwks_uri"] = "https://127.0.0.1/jwks".into()),
        Page::Text(200, "text/html", "<html>".into()),
        Page::Text(302, "application/json", String::new()),
        Page::Fails(Outcome::Tls),
    ] {
        let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
        world.set(DISCOVERY, document);
        let mut check = begin(&engine, &jwt("EdDSA"), NOW);
        assert_eq!(world.run(&mut check, NOW), Reason::KeysUnavailable);
        assert!(check.detail().is_some_and(|detail| !detail.is_empty()));
        assert!(!world.urls().contains(&JWKS.to_owned()));
    }
}

#[test]
fn fault_13_a_new_key_costs_one_fetch_and_a_removed_one_fails_after_it() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    let old = jwt("EdDSA");
    assert_eq!(decide(&mut world, &engine, &old, NOW), Reason::Allowed);
    world.set(JWKS, keys(&["ES256"]));
    world.fetched.clear();
    assert_eq!(decide(&mut world, &engine, &jwt("ES256"), NOW + 1), Reason::Allowed);
    assert_eq!(world.urls(), [JWKS]);
    // It was remembered as verified: not by these keys.
    assert_eq!(decide(&mut world, &engine, &old, NOW + 1), Reason::KeyUnknown);
    assert_eq!(world.urls(), [""; 0]);
}

#[test]
fn fault_14_another_key_under_the_same_kid_is_fetched_after_a_failed_signature() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    let mut stale = named_jwk("ES256");
    stale["kid"] = "PS256".into();
    stale["alg"] = "ES256".into();
    world.set(JWKS, Page::Json(json!({"keys": [stale, named_jwk("EdDSA")]})));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    let mut renewed = named_jwk("PS256");
    renewed["kid"] = "PS256".into();
    world.set(JWKS, Page::Json(json!({"keys": [renewed]})));
    assert_eq!(decide(&mut world, &engine, &jwt("PS256"), NOW), Reason::Allowed);
}

#[test]
fn fault_15_a_flood_of_unknown_kids_costs_one_fetch_in_a_cool_down() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    world.fetched.clear();
    let unknown = |i: usize| {
        let mut header = header("EdDSA");
        header["kid"] = format!("unknown-{i}").into();
        mint_raw("EdDSA", &header.to_string(), &common::claims().to_string())
    };
    for i in 0..100 {
        assert_eq!(decide(&mut world, &engine, &unknown(i), NOW + 29), Reason::KeyUnknown);
    }
    assert_eq!(world.urls(), [JWKS]);
    assert_eq!(decide(&mut world, &engine, &unknown(100), NOW + 58), Reason::KeyUnknown);
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(decide(&mut world, &engine, &unknown(101), NOW + 59), Reason::KeyUnknown);
    assert_eq!(world.urls(), [JWKS]);
}

#[test]
fn a_request_that_waited_for_the_keys_does_not_fetch_them_twice() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &jwt("ES256"), NOW), Reason::KeyUnknown);
    assert_eq!(world.urls(), [DISCOVERY, JWKS]);
}

#[test]
fn fault_17_the_last_good_keys_are_used_until_keys_max_stale() {
    let engine = engine(|c| {
        c["keys_max_age"] = 100.into();
        c["keys_max_stale"] = 1000.into();
    });
    let mut world = World::with_keys(&["EdDSA"]);
    let token = |i: i64| mint("EdDSA", |c| c["exp"] = (NOW + 10_000 + i).into());
    let iat = |at: i64| move |i: i64| mint("EdDSA", |c| (c["exp"], c["iat"]) = ((NOW + 10_000 + i).into(), at.into()));
    assert_eq!(decide(&mut world, &engine, &token(0), NOW), Reason::Allowed);
    for bad in
        [Page::Fails(Outcome::Timeout), Page::Json(json!({"keys": []})), Page::Text(500, "text/plain", String::new())]
    {
        world.set(JWKS, bad);
        world.fetched.clear();
        assert_eq!(decide(&mut world, &engine, &token(100), NOW + 99), Reason::Allowed);
        assert_eq!(world.urls(), [""; 0]);
    }
    // Too old: asked for, in vain; then left alone for the cool-down.
    assert_eq!(decide(&mut world, &engine, &token(2), NOW + 100), Reason::Allowed);
    assert_eq!(world.urls().last().map(String::as_str), Some(JWKS));
    assert_eq!(decide(&mut world, &engine, &token(3), NOW + 110), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(decide(&mut world, &engine, &iat(NOW + 900)(4), NOW + 999), Reason::Allowed);
    for i in 0..2 {
        assert_eq!(decide(&mut world, &engine, &iat(NOW + 900)(5 + i), NOW + 1030), Reason::KeysUnavailable);
    }
    // A token that was remembered ends with the keys, too.
    assert_eq!(decide(&mut world, &engine, &token(0), NOW + 1030), Reason::KeysUnavailable);
    world.set(JWKS, keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &token(0), NOW + 1032), Reason::Allowed);
}

#[test]
fn an_unknown_key_is_503_where_the_server_could_not_be_asked() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    world.set(JWKS, Page::Fails(Outcome::Connect));
    for i in 0..3 {
        assert_eq!(decide(&mut world, &engine, &jwt("ES256"), NOW + i), Reason::KeysUnavailable, "{i}");
    }
    assert_eq!(world.urls().len(), 3);
    // What is wrong with a known key is the token's fault all the same.
    let forged = format!("{}x{}", &jwt("EdDSA")[..jwt("EdDSA").len() - 2], "A");
    assert_eq!(decide(&mut world, &engine, &forged, NOW), Reason::SignatureInvalid);
    world.set(JWKS, keys(&["EdDSA", "ES256"]));
    assert_eq!(decide(&mut world, &engine, &jwt("ES256"), NOW + 31), Reason::Allowed);
}

#[test]
fn several_requests_for_the_same_keys_are_the_same_fetch_and_any_answer_serves_all() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    let mut checks: Vec<Check> =
        (0..4_i32).map(|i| begin(&engine, &mint("EdDSA", |c| c["jti"] = i.to_string().into()), NOW)).collect();
    let flights = |checks: &[Check]| -> Vec<[u8; 32]> {
        checks
            .iter()
            .filter_map(|c| if let Step::Fetch(fetch) = c.step() { Some(fetch.flight) } else { None })
            .collect()
    };
    let first = flights(&checks);
    assert!(first.len() == 4 && first.iter().all(|flight| *flight == first[0]));
    for check in &mut checks {
        world.step(check, NOW);
    }
    let second = flights(&checks);
    assert!(second.iter().all(|flight| *flight == second[0] && *flight != first[0]));
    // The one that began it all goes away; another one brings the answer.
    checks.remove(0);
    for check in &mut checks {
        assert_eq!(world.run(check, NOW), Reason::Allowed);
    }
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
}

// --- Several issuers

#[test]
fn rfc8725_3_8_a_no_key_verifies_for_another_issuer() {
    const OTHER: &str = "https://other.test";
    let engine = engine(|c| {
        c["issuers_allowed"] =
            json!([ISSUER, {"issuer": OTHER, "jwks_uri": "https://other.test/jwks", "audience_required": ["other"]}]);
    });
    let mut world = World::with_keys(&["EdDSA"]);
    world.set("https://other.test/jwks", keys(&["ES256"]));
    let of_other = |alg: &str, aud: &str| {
        mint(alg, |c| {
            c["iss"] = OTHER.into();
            c["aud"] = aud.into();
        })
    };
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(decide(&mut world, &engine, &of_other("ES256", "other"), NOW), Reason::Allowed);
    assert_eq!(decide(&mut world, &engine, &of_other("ES256", AUDIENCE), NOW), Reason::AudienceMismatch);
    assert_eq!(decide(&mut world, &engine, &of_other("EdDSA", "other"), NOW), Reason::KeyUnknown);
    assert_eq!(decide(&mut world, &engine, &jwt("ES256"), NOW), Reason::KeyUnknown);
    assert_eq!(
        decide(&mut world, &engine, &mint("EdDSA", |c| c["iss"] = "https://third.test".into()), NOW),
        Reason::IssuerMismatch
    );
}

#[test]
fn an_opaque_token_goes_to_the_first_issuer_only() {
    let engine = engine(|c| {
        c["issuers_allowed"] = json!([{"issuer": "https://other.test", "client_id": "x", "client_secret": "y"}]);
    });
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    assert!(world.urls().iter().all(|url| url.starts_with(ISSUER)));
}

// --- Introspection

#[test]
fn rfc7662_2_1_a_the_request_is_a_form_with_the_token_and_its_hint() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    let fetch = world.fetched.last().expect("an introspection");
    assert_eq!((fetch.method, fetch.url.as_str(), fetch.endpoint), ("POST", INTROSPECTION, Endpoint::Introspection));
    assert_eq!(fetch.body, b"token=opaque-token%2F%2B%3D%3D&token_type_hint=access_token");
    let header = |name: &str| fetch.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(header("accept"), Some("application/json"));
    assert_eq!(header("authorization"), Some("Basic Z2F0ZXdheTpzZWNyZXQ="));
}

#[test]
fn rfc8705_3_2_b_binding_and_times_are_checked_on_every_hit() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    world.set(INTROSPECTION, active(|r| r["exp"] = (NOW + 30).into()));
    let ask = |world: &mut World, certificate: Option<&[u8]>, now: i64| {
        world.run(&mut begin_with(&engine, OPAQUE, certificate, now), now)
    };
    assert_eq!(ask(&mut world, Some(CLIENT_B), NOW), Reason::CertificateMismatch);
    world.fetched.clear();
    // The facts are known now; each request is judged by its own certificate and time.
    for (certificate, now, reason) in [
        (Some(CLIENT_A), NOW, Reason::Allowed),
        (Some(CLIENT_B), NOW, Reason::CertificateMismatch),
        (None, NOW, Reason::CertificateMissing),
        (Some(CLIENT_A), NOW + 29, Reason::Allowed),
    ] {
        assert_eq!(ask(&mut world, certificate, now), reason);
    }
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(ask(&mut world, Some(CLIENT_A), NOW + 30), Reason::TokenExpired);
}

#[test]
fn rfc7662_4_b_and_c_an_answer_is_used_for_its_time_and_never_beyond_exp() {
    let engine = engine(|c| c["introspection_cache_ttl"] = 10.into());
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    world.set(INTROSPECTION, Page::Json(json!({"active": false})));
    world.fetched.clear();
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 9), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 10), Reason::TokenInactive);
    assert_eq!(world.urls(), [INTROSPECTION]);
    // Refused for a while without asking.
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 14), Reason::TokenInactive);
    assert_eq!(world.urls(), [""; 0]);
    world.set(INTROSPECTION, active(|_| {}));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 15), Reason::Allowed);
}

#[test]
fn with_a_time_of_zero_every_request_is_asked_about() {
    let engine = engine(|c| {
        c["introspection_cache_ttl"] = 0.into();
        c["store_secret"] = SECRET.into();
    });
    let mut world = World::with_keys(&["EdDSA"]);
    for _ in 0..3 {
        world.fetched.clear();
        assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
        assert_eq!(world.urls().last().map(String::as_str), Some(INTROSPECTION));
    }
}

#[test]
fn rfc7662_2_3_a_no_answer_is_503_and_is_not_remembered() {
    let text = |status, content_type, body: &str| Page::Text(status, content_type, body.to_owned());
    for page in [
        Page::Fails(Outcome::Resolve),
        Page::Fails(Outcome::Connect),
        Page::Fails(Outcome::Tls),
        Page::Fails(Outcome::Timeout),
        Page::Fails(Outcome::Malformed),
        Page::Fails(Outcome::TooLarge),
        Page::Fails(Outcome::Busy),
        text(500, "application/json", r#"{"active":true}"#),
        text(302, "application/json", r#"{"active":true}"#),
        text(204, "", ""),
        text(200, "text/html", r#"{"active":true}"#),
        text(200, "", r#"{"active":true}"#),
        text(200, "application/json", ""),
        text(200, "application/json", r#"{"active":true"#),
        text(200, "application/json", "\u{feff}{\"active\":true}"),
        text(200, "application/json", r#"{"active":"true"}"#),
        text(200, "application/json", r#"{"active":1}"#),
        text(200, "application/json", r#"[{"active":true}]"#),
        text(200, "application/json", "null"),
        text(200, "application/json", r#"{"active":true,"active":true}"#),
        text(400, "application/json", r#"{"error":"unsupported_token_type"}"#),
    ] {
        let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
        world.set(INTROSPECTION, page);
        let mut check = begin(&engine, OPAQUE, NOW);
        assert_eq!(world.run(&mut check, NOW), Reason::IntrospectionUnavailable);
        assert!(
            matches!(check.step(), Step::Respond(r) if r.status == 503 && r.retry_after.is_some() && r.www_authenticate.is_none())
        );
        world.set(INTROSPECTION, active(|_| {}));
        assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    }
}

#[test]
fn what_is_only_reported_passes_after_the_steps_too_and_with_the_detail() {
    for (page, reason) in [
        (Page::Fails(Outcome::Timeout), Reason::IntrospectionUnavailable),
        (Page::Text(401, "application/json", r#"{"error":"invalid_client"}"#.into()), Reason::ClientRefused),
        (Page::Json(json!({"active": false})), Reason::TokenInactive),
        (active(|r| without(r, "cnf")), Reason::TokenUnbound),
    ] {
        let run = |report_only: bool| {
            let engine = engine(|c| c["report_only"] = report_only.into());
            let mut world = World::with_keys(&["EdDSA"]);
            world.set(INTROSPECTION, page.clone());
            let mut check = begin(&engine, OPAQUE, NOW);
            assert_eq!(world.run(&mut check, NOW), reason);
            check
        };
        let (reported, refused) = (run(true), run(false));
        let status = reason.answer().status();
        assert!(matches!(reported.step(), Step::Report(r) if r.reason == reason && r.status == status));
        assert!(matches!(refused.step(), Step::Respond(r) if r.reason == reason));
        assert_eq!((reported.reason(), reported.detail()), (Some(reason), refused.detail()));
    }
    let engine = engine(|c| c["report_only"] = true.into());
    let (mut world, mut check) = (World::with_keys(&["EdDSA"]), begin(&engine, OPAQUE, NOW));
    assert_eq!(world.run(&mut check, NOW), Reason::Allowed);
    assert!(matches!(check.step(), Step::Allow(_)));
}

#[test]
fn rfc8705_2_c_a_server_that_refuses_the_gateway_is_not_the_clients_fault() {
    for page in [
        Page::Text(401, "application/json", r#"{"error":"invalid_client"}"#.into()),
        Page::Text(400, "application/json", r#"{"error":"invalid_client"}"#.into()),
    ] {
        let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
        world.set(INTROSPECTION, page);
        assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::ClientRefused);
    }
}

#[test]
fn fault_5_a_server_that_asks_for_a_pause_gets_it() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    world.set(INTROSPECTION, Page::Retry(429, "7"));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::IntrospectionUnavailable);
    world.set(INTROSPECTION, active(|_| {}));
    world.fetched.clear();
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 6), Reason::IntrospectionUnavailable);
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 7), Reason::Allowed);
}

#[test]
fn fault_12_what_the_server_says_of_an_active_token_is_held_to_the_rules() {
    let change = |name: &'static str, value: Value| {
        active(move |r| match value {
            Value::Null => without(r, name),
            value => r[name] = value,
        })
    };
    for (page, reason) in [
        (change("exp", (NOW - 1).into()), Reason::TokenExpired),
        (change("exp", "soon".into()), Reason::ClaimsMalformed),
        (change("nbf", (NOW + 60).into()), Reason::TokenNotYetValid),
        (change("aud", "https://other.test".into()), Reason::AudienceMismatch),
        (change("aud", Value::Null), Reason::ClaimMissing),
        (change("iss", "https://other.test".into()), Reason::IssuerMismatch),
        (change("iss", 1.into()), Reason::ClaimsMalformed),
        (change("cnf", Value::Null), Reason::TokenUnbound),
        (change("cnf", "x".into()), Reason::ConfirmationMalformed),
        (change("cnf", json!({"jkt": "x"})), Reason::ConfirmationMalformed),
        (change("token_type", "refresh_token".into()), Reason::NotAnAccessToken),
        (change("token_type", "DPoP".into()), Reason::ConfirmationMalformed),
        (change("scope", "write".into()), Reason::InsufficientScope),
        // What a JWT could not leave out: the server itself vouches for it.
        (change("iss", Value::Null), Reason::Allowed),
        (change("exp", Value::Null), Reason::Allowed),
        (change("token_type", Value::Null), Reason::Allowed),
        (change("client_id", Value::Null), Reason::Allowed),
    ] {
        let engine = engine(|c| c["scopes_required"] = json!(["read"]));
        let mut world = World::with_keys(&["EdDSA"]);
        world.set(INTROSPECTION, page);
        assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), reason);
    }
}

#[test]
fn rfc7662_2_2_d_of_an_inactive_token_nothing_is_used() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    world.set(INTROSPECTION, active(|r| r["active"] = false.into()));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::TokenInactive);
}

#[test]
fn what_is_no_bearer_token_is_never_sent_anywhere() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    for token in ["a b", "a,b", "a\"", "ä", "a=b"] {
        assert_eq!(decide(&mut world, &engine, token, NOW), Reason::MalformedAuthorization, "{token}");
    }
    assert_eq!(decide(&mut world, &engine, &"a".repeat(8193), NOW), Reason::TokenTooLarge);
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(decide(&mut world, &engine, &"a".repeat(8192), NOW), Reason::Allowed);
}

#[test]
fn without_a_client_an_opaque_token_is_no_token() {
    let engine = engine(|c| {
        without(c, "client_id");
        without(c, "client_secret");
    });
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::TokenNotJwt);
    assert_eq!(world.urls(), [""; 0]);
}

#[test]
fn without_bearer_a_jwt_is_introspected_and_not_read() {
    let engine = engine(|c| c["auth_methods"] = json!(["introspection"]));
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, &mint("EdDSA", |c| c["exp"] = 1.into()), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, INTROSPECTION]);
}

#[test]
fn introspect_jwt_tokens_holds_to_both() {
    let engine = engine(|c| c["introspect_jwt_tokens"] = true.into());
    let mut world = World::with_keys(&["EdDSA"]);
    let token = |jti: usize| mint("EdDSA", |c| c["jti"] = jti.to_string().into());
    assert_eq!(decide(&mut world, &engine, &token(100), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, JWKS, INTROSPECTION]);
    // The claims are those that were signed.
    let mut check = begin(&engine, &token(100), NOW);
    assert_eq!(world.run(&mut check, NOW), Reason::Allowed);
    assert!(matches!(check.step(), Step::Allow(granted) if granted.claims().windows(5).any(|w| w == b"alice")));
    assert_eq!(world.urls(), [""; 0]);
    // A token of its own each: what was said of one is remembered.
    for (i, (page, reason)) in [
        (Page::Json(json!({"active": false})), Reason::TokenInactive),
        (Page::Json(json!({"active": true, "aud": AUDIENCE})), Reason::Allowed),
        (active(|r| r["cnf"] = json!({"x5t#S256": x5t(CLIENT_B)})), Reason::ConfirmationMalformed),
        (active(|r| r["exp"] = NOW.into()), Reason::TokenExpired),
        (Page::Fails(Outcome::Timeout), Reason::IntrospectionUnavailable),
    ]
    .into_iter()
    .enumerate()
    {
        world.set(INTROSPECTION, page);
        assert_eq!(decide(&mut world, &engine, &token(i), NOW), reason);
        assert_eq!(decide(&mut world, &engine, &mint("EdDSA", |c| c["exp"] = NOW.into()), NOW), Reason::TokenExpired);
    }
}

// --- Signed responses (RFC 9701)

fn signed(alg: &str, typ: &str, change: impl FnOnce(&mut Value)) -> Page {
    let mut claims = json!({"iss": ISSUER, "aud": "gateway", "iat": NOW});
    let Page::Json(inner) = active(|_| {}) else { unreachable!() };
    claims["token_introspection"] = inner;
    change(&mut claims);
    let header = json!({"alg": alg, "kid": alg, "typ": typ});
    Page::Text(200, "application/token-introspection+jwt", mint_raw(alg, &header.to_string(), &claims.to_string()))
}

#[test]
fn rfc9701_5_a_only_a_signed_response_of_the_right_type_is_taken() {
    const TYP: &str = "token-introspection+jwt";
    let unsigned = active(|_| {});
    let bad_signature = match signed("EdDSA", TYP, |_| {}) {
        Page::Text(status, content_type, body) => {
            let cut = body.rfind('.').expect("three parts");
            Page::Text(status, content_type, format!("{}.{}", &body[..cut], b64(&[1; 64])))
        }
        other => other,
    };
    for (page, reason) in [
        (signed("EdDSA", TYP, |_| {}), Reason::Allowed),
        (signed("EdDSA", "application/token-introspection+jwt", |_| {}), Reason::Allowed),
        (unsigned, Reason::IntrospectionUnavailable),
        (signed("EdDSA", "at+jwt", |_| {}), Reason::IntrospectionUnavailable),
        (signed("EdDSA", "JWT", |_| {}), Reason::IntrospectionUnavailable),
        (signed("ES256", TYP, |_| {}), Reason::IntrospectionUnavailable),
        (bad_signature, Reason::IntrospectionUnavailable),
        (signed("EdDSA", TYP, |c| c["aud"] = "other".into()), Reason::IntrospectionUnavailable),
        (signed("EdDSA", TYP, |c| c["iss"] = "https://other.test".into()), Reason::IntrospectionUnavailable),
        (signed("EdDSA", TYP, |c| c["iat"] = (NOW - 100).into()), Reason::IntrospectionUnavailable),
        (signed("EdDSA", TYP, |c| without(c, "token_introspection")), Reason::IntrospectionUnavailable),
        (signed("EdDSA", TYP, |c| c["token_introspection"]["active"] = false.into()), Reason::TokenInactive),
        (Page::Text(200, "application/token-introspection+jwt", "a.b.c.d.e".into()), Reason::IntrospectionUnavailable),
    ] {
        let engine = engine(|c| c["introspection_accept"] = "application/token-introspection+jwt".into());
        let mut world = World::with_keys(&["EdDSA"]);
        world.set(INTROSPECTION, page);
        let mut check = begin(&engine, OPAQUE, NOW);
        assert_eq!(world.run(&mut check, NOW), reason, "{:?}", check.detail());
    }
}

#[test]
fn rfc9701_8_1_a_a_signed_response_is_no_access_token() {
    let Page::Text(_, _, response) = signed("EdDSA", "token-introspection+jwt", |_| {}) else { unreachable!() };
    let (engine, mut world) =
        (engine(|c| c["token_types"] = json!(["at+jwt", "JWT", "none"])), World::with_keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &response, NOW), Reason::TypeRefused);
}

// --- The shared store

#[test]
fn rfc7662_4_d_an_introspection_is_shared_with_those_who_have_the_secret_and_the_token() {
    let with_secret = |secret: &'static str| engine(move |c| c["store_secret"] = secret.into());
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &with_secret(SECRET), OPAQUE, NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, INTROSPECTION]);
    for value in world.store.values() {
        for word in [OPAQUE.as_bytes(), b"read", b"app", AUDIENCE.as_bytes(), x5t(CLIENT_A).as_bytes()] {
            assert!(!value.windows(word.len()).any(|w| w == word));
        }
    }
    // Another worker, without any request; then with another secret, another client, a changed value.
    assert_eq!(decide(&mut world, &with_secret(SECRET), OPAQUE, NOW + 59), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(
        world.run(&mut begin_with(&with_secret(SECRET), OPAQUE, Some(CLIENT_B), NOW), NOW),
        Reason::CertificateMismatch
    );
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(decide(&mut world, &with_secret(SECRET), OPAQUE, NOW + 60), Reason::Allowed);
    assert_eq!(world.urls(), [INTROSPECTION]);
    let other_client = engine(|c| {
        c["store_secret"] = SECRET.into();
        c["client_id"] = "gateway-b".into();
    });
    assert_eq!(decide(&mut world, &other_client, OPAQUE, NOW), Reason::Allowed);
    assert_eq!(world.urls(), [INTROSPECTION]);
    assert_eq!(decide(&mut world, &with_secret("another secret of 32 characters!"), OPAQUE, NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, INTROSPECTION]);
    assert_eq!(decide(&mut world, &with_secret(SECRET), OPAQUE, NOW + 60), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
    for value in world.store.values_mut() {
        value[20] ^= 1;
    }
    assert_eq!(decide(&mut world, &with_secret(SECRET), OPAQUE, NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, INTROSPECTION]);
}

#[test]
fn rfc7662_4_b_nothing_is_shared_beyond_exp() {
    for (exp, ttls) in [(NOW + 600, &[60][..]), (NOW + 30, &[30]), (NOW + 1, &[1]), (NOW, &[]), (NOW - 1, &[])] {
        let engine = engine(|c| {
            c["store_secret"] = SECRET.into();
            c["introspection_endpoint"] = INTROSPECTION.into();
        });
        let mut world = World::with_keys(&["EdDSA"]);
        world.set(INTROSPECTION, active(|r| r["exp"] = exp.into()));
        let _ = decide(&mut world, &engine, OPAQUE, NOW);
        assert_eq!(world.ttls, ttls, "{}", exp - NOW);
    }
}

#[test]
fn fault_28_a_store_that_fails_opens_nothing_and_closes_nothing() {
    let engine = engine(|c| c["store_secret"] = SECRET.into());
    let mut world = World { store_fails: true, ..World::with_keys(&["EdDSA"]) };
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(decide(&mut world, &engine, &jwt("ES256"), NOW), Reason::KeyUnknown);
    world.set(INTROSPECTION, Page::Json(json!({"active": false})));
    assert_eq!(decide(&mut world, &engine, "another", NOW), Reason::TokenInactive);
}

#[test]
fn keys_that_one_worker_fetched_serve_the_others() {
    let worker = || engine(|c| c["store_secret"] = SECRET.into());
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &one, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [DISCOVERY, JWKS]);
    assert_eq!(decide(&mut world, &two, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
    // A new key: fetched by one, taken over by the other.
    world.set(JWKS, keys(&["EdDSA", "ES256"]));
    assert_eq!(decide(&mut world, &one, &jwt("ES256"), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [JWKS]);
    assert_eq!(decide(&mut world, &two, &jwt("ES256"), NOW), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
    // Both know that it was asked a moment ago.
    for worker in [&two, &one] {
        assert_eq!(decide(&mut world, worker, &jwt("PS256"), NOW), Reason::KeyUnknown);
    }
    assert_eq!(world.urls(), [""; 0]);
}

#[test]
fn while_one_worker_fetches_the_others_wait_for_what_it_brings() {
    let worker = || engine(|c| c["store_secret"] = SECRET.into());
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    for worker in [&one, &two] {
        assert_eq!(decide(&mut world, worker, &jwt("EdDSA"), NOW), Reason::Allowed);
    }
    world.set(JWKS, keys(&["EdDSA", "ES256"]));
    world.fetched.clear();
    let until_fetch = |world: &mut World, check: &mut Check| {
        while !matches!(check.step(), Step::Fetch(_)) {
            assert!(world.step(check, NOW), "{:?}", check.reason());
        }
    };
    let mut first = begin(&one, &jwt("ES256"), NOW);
    until_fetch(&mut world, &mut first);
    // The other worker's request looks, and looks again after a pause.
    let mut second = begin(&two, &jwt("ES256"), NOW);
    let mut pauses = 0;
    for _ in 0..10 {
        if let Step::Store(store) = second.step() {
            pauses += usize::from(store.delay_ms > 0);
        }
        assert!(world.step(&mut second, NOW));
    }
    assert!(pauses > 2);
    assert_eq!(world.run(&mut first, NOW), Reason::Allowed);
    assert_eq!(world.run(&mut second, NOW), Reason::Allowed);
    assert_eq!(world.urls(), [JWKS]);
}

#[test]
fn fault_23_a_worker_that_died_while_fetching_keeps_the_others_waiting_for_a_while_only() {
    let worker = || engine(|c| c["store_secret"] = SECRET.into());
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    let mut first = begin(&one, &jwt("EdDSA"), NOW);
    while !matches!(first.step(), Step::Fetch(_)) {
        assert!(world.step(&mut first, NOW));
    }
    drop((first, one));
    assert_eq!(decide(&mut world, &two, &jwt("EdDSA"), NOW), Reason::Allowed);
}

// --- Client authentication

/// A request at the introspection endpoint: body and headers, decoded.
fn request_of(change: impl FnOnce(&mut Value)) -> (Fetch, HashMap<String, String>) {
    let engine = engine(change);
    let mut world = World::with_keys(&["EdDSA"]);
    world.set(ALIAS, active(|_| {}));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    let fetch = world.fetched.pop().expect("an introspection");
    let body = String::from_utf8(fetch.body.clone()).expect("ASCII");
    let form =
        body.split('&').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    (fetch, form)
}

fn certificates(c: &mut Value) {
    without(c, "client_secret");
    c["client_certificates"] = json!({"gw": {"certificate": "gw.crt", "private_key": "gw.key"}});
    c["tls_client_auth_cert_id"] = "gw".into();
}

#[test]
fn rfc8705_2_b_and_5_a_mutual_tls_sends_client_id_and_goes_to_the_alias() {
    for method in ["tls_client_auth", "self_signed_tls_client_auth"] {
        let (fetch, form) = request_of(|c| {
            certificates(c);
            c["client_auth"] = method.into();
        });
        assert_eq!(fetch.url, ALIAS);
        assert_eq!(form["client_id"], "gateway");
        assert!(!form.contains_key("client_secret") && !fetch.headers.iter().any(|(name, _)| name == "authorization"));
        let (fetch, _) = request_of(|c| {
            certificates(c);
            c["client_auth"] = method.into();
            c["mtls_introspection_endpoint"] = ALIAS.into();
            c["introspection_endpoint"] = "https://as.test/wrong".into();
        });
        assert_eq!(fetch.url, ALIAS);
    }
    let (fetch, _) = request_of(|_| {});
    assert_eq!(fetch.url, INTROSPECTION);
}

#[test]
fn mutual_tls_goes_with_other_methods_and_each_endpoint_has_its_own() {
    let key = include_str!("common/keys/ed25519.jwk");
    let (fetch, form) = request_of(|c| {
        certificates(c);
        c["client_auth"] = "private_key_jwt".into();
        c["client_jwk"] = key.into();
    });
    assert_eq!(fetch.url, ALIAS);
    assert!(form["client_assertion"].split('.').count() == 3 && form["client_id"] == "gateway");
    let (fetch, form) = request_of(|c| {
        certificates(c);
        c["client_secret"] = "secret".into();
        c["client_auth"] = "tls_client_auth".into();
        c["introspection_endpoint_auth_method"] = "client_secret_post".into();
    });
    assert_eq!((fetch.url.as_str(), form["client_secret"].as_str()), (ALIAS, "secret"));
}

#[test]
fn a_call_of_the_operator_goes_the_same_way() {
    let engine = engine(|_| {});
    let mut world = World::with_keys(&["EdDSA"]);
    world.set("https://as.test/token", Page::Json(json!({"access_token": "x"})));
    world.set("https://as.test/revoke", Page::Text(200, "", String::new()));
    let form = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
    type Begin = Box<dyn Fn(&Arc<Engine>) -> Call>;
    let calls: [(Begin, Result<&[u8], Reason>); 3] = [
        (Box::new(move |engine| engine.call_token(0, form.clone(), NOW)), Ok(br#"{"access_token":"x"}"#)),
        (Box::new(|engine| engine.call_revocation(0, OPAQUE, Some("access_token"), NOW)), Ok(b"")),
        (Box::new(|engine| engine.call_revocation(1, OPAQUE, None, NOW)), Err(Reason::InternalError)),
    ];
    for (begin, expected) in calls {
        let mut call = begin(&engine);
        while let CallStep::Fetch(fetch) = call.step() {
            let fetch = fetch.clone();
            world.answer(&fetch, |answer| call.fetched(NOW, answer).expect("a fetch"));
        }
        assert!(
            matches!(call.step(), CallStep::Done(outcome) if outcome.map_err(|refusal| refusal.reason) == expected)
        );
    }
    assert_eq!(world.urls(), [DISCOVERY, "https://as.test/token", "https://as.test/revoke"]);
}

// --- What a review found

#[test]
fn who_trusts_other_servers_shares_nothing() {
    let change = |name: &'static str, value: Value| {
        engine(move |c| {
            c["store_secret"] = SECRET.into();
            c[name] = value;
        })
    };
    let mut world = World::with_keys(&["EdDSA"]);
    let lax = change("ssl_verify", false.into());
    assert_eq!(decide(&mut world, &lax, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(decide(&mut world, &lax, OPAQUE, NOW), Reason::Allowed);
    // The one in the middle is gone: what was learnt through it is the lax one's alone.
    world.set(JWKS, keys(&["ES256"]));
    world.set(INTROSPECTION, Page::Json(json!({"active": false})));
    for strict in [
        change("ssl_verify", true.into()),
        change("ssl_trusted_certificate", "ca.pem".into()),
        change("endpoint_hosts", json!(["keys.test"])),
    ] {
        assert_eq!(decide(&mut world, &strict, &jwt("EdDSA"), NOW), Reason::KeyUnknown);
        assert_eq!(decide(&mut world, &strict, OPAQUE, NOW), Reason::TokenInactive);
    }
}

#[test]
fn a_token_that_says_it_is_another_kind_is_refused_when_introspected_too() {
    for (name, value) in
        [("typ", json!("Refresh")), ("typ", json!("ID")), ("nonce", json!("n")), ("at_hash", json!("h"))]
    {
        let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
        let page = |named: bool| {
            let value = value.clone();
            active(move |r| {
                r[name] = value;
                if !named {
                    without(r, "token_type");
                }
            })
        };
        world.set(INTROSPECTION, page(false));
        assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::NotAnAccessToken, "{name}");
        // A server that says it is a bearer token has said what it is; a `typ` of another kind contradicts that.
        world.set(INTROSPECTION, page(true));
        let expected = if name == "typ" { Reason::NotAnAccessToken } else { Reason::Allowed };
        assert_eq!(decide(&mut world, &engine, "another", NOW), expected, "{name}");
    }
}

#[test]
fn a_set_without_a_usable_key_withdraws_the_old_ones() {
    let engine = engine(|c| c["keys_max_age"] = 100.into());
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    world.set(JWKS, Page::Json(json!({"keys": []})));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW + 100), Reason::KeysUnavailable);
    world.set(JWKS, keys(&["EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW + 102), Reason::Allowed);
}

#[test]
fn an_introspected_jwt_ends_with_its_keys() {
    let engine = engine(|c| {
        c["introspect_jwt_tokens"] = true.into();
        c["introspection_cache_ttl"] = 86_400.into();
        c["keys_max_age"] = 100.into();
    });
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    world.set(JWKS, keys(&["ES256"]));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW + 99), Reason::Allowed);
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW + 100), Reason::KeyUnknown);
}

#[test]
fn what_is_sent_to_one_issuer_is_sent_to_no_other() {
    const OTHER: &str = "https://other.test";
    let engine = engine(|c| {
        c["introspect_jwt_tokens"] = true.into();
        c["introspection_headers_names"] = json!(["x-api-key"]);
        c["introspection_headers_values"] = json!(["of-the-first"]);
        c["introspection_post_args_names"] = json!(["tenant"]);
        c["introspection_post_args_values"] = json!(["of-the-first"]);
        c["issuers_allowed"] = json!([{
            "issuer": OTHER, "jwks_uri": "https://other.test/jwks", "introspection_endpoint": "https://other.test/i",
            "client_id": "other", "client_secret": "other",
        }]);
    });
    let mut world = World::with_keys(&["EdDSA"]);
    world.set("https://other.test/jwks", keys(&["EdDSA"]));
    world.set("https://other.test/i", active(|r| r["iss"] = OTHER.into()));
    assert_eq!(decide(&mut world, &engine, &mint("EdDSA", |c| c["iss"] = OTHER.into()), NOW), Reason::Allowed);
    let sent = |world: &World, host: &str| {
        let all = world.fetched.iter().filter(|f| f.url.starts_with(host));
        all.map(|f| format!("{:?} {}", f.headers, String::from_utf8_lossy(&f.body))).collect::<String>()
    };
    assert!(!sent(&world, OTHER).contains("of-the-first"));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    assert_eq!(sent(&world, ISSUER).matches("of-the-first").count(), 2);
}

#[test]
fn fault_21_a_clock_that_was_set_back_neither_opens_nor_closes_for_long() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    let hour = 3600;
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    world.set(INTROSPECTION, Page::Json(json!({"active": false})));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW - hour), Reason::TokenInactive);
    // Failures of a time that is not come yet hinder nobody.
    for page in [DISCOVERY, JWKS] {
        let engine = self::engine(|_| {});
        let mut world = World::with_keys(&["EdDSA"]);
        let good = world.pages.insert(page.to_owned(), Page::Fails(Outcome::Connect)).expect("there");
        assert_eq!(decide(&mut world, &engine, &mint("EdDSA", |c| c["iat"] = 1.into()), NOW), Reason::KeysUnavailable);
        world.set(page, good);
        let early = mint("EdDSA", |c| c["iat"] = 1.into());
        assert_eq!(decide(&mut world, &engine, &early, NOW - hour), Reason::Allowed);
    }
}

#[test]
fn metadata_that_did_not_work_is_asked_for_again_after_a_while() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    world.set(DISCOVERY, metadata(|m| without(m, "introspection_endpoint")));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::MetadataUnavailable);
    world.set(DISCOVERY, metadata(|_| {}));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 1), Reason::Allowed);
    // An endpoint that has moved: known by its 404, and looked for once in a cool-down.
    world.pages.remove(INTROSPECTION);
    world.set("https://as.test/moved", active(|_| {}));
    assert_eq!(decide(&mut world, &engine, "b", NOW + 2), Reason::IntrospectionUnavailable);
    world.set(DISCOVERY, metadata(|m| m["introspection_endpoint"] = "https://as.test/moved".into()));
    assert_eq!(decide(&mut world, &engine, "b", NOW + 2), Reason::IntrospectionUnavailable);
    assert_eq!(decide(&mut world, &engine, "b", NOW + 31), Reason::Allowed);
}

#[test]
fn a_new_worker_takes_keys_that_are_old_while_none_can_be_fetched() {
    let worker = || {
        engine(|c| {
            c["store_secret"] = SECRET.into();
            c["keys_max_age"] = 100.into();
        })
    };
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &worker(), &jwt("EdDSA"), NOW), Reason::Allowed);
    world.set(DISCOVERY, Page::Fails(Outcome::Connect));
    world.set(JWKS, Page::Fails(Outcome::Connect));
    let new = worker();
    assert_eq!(decide(&mut world, &new, &jwt("EdDSA"), NOW + 200), Reason::Allowed);
    world.urls();
    assert_eq!(decide(&mut world, &new, &mint("EdDSA", |c| c["jti"] = "2".into()), NOW + 201), Reason::Allowed);
    assert_eq!(world.urls(), [""; 0]);
}

#[test]
fn keys_that_are_old_keep_one_request_waiting_and_not_all() {
    let engine = engine(|c| c["keys_max_age"] = 100.into());
    let mut world = World::with_keys(&["EdDSA"]);
    let token = |jti: &str| mint("EdDSA", |c| c["jti"] = jti.into());
    assert_eq!(decide(&mut world, &engine, &token("1"), NOW), Reason::Allowed);
    let mut first = begin(&engine, &token("1"), NOW + 100);
    assert!(matches!(first.step(), Step::Fetch(_)));
    for jti in ["1", "2", "3"] {
        assert_eq!(begin(&engine, &token(jti), NOW + 100).reason(), Some(Reason::Allowed));
    }
    assert_eq!(world.run(&mut first, NOW + 100), Reason::Allowed);
}

#[test]
fn fault_23_a_leader_that_died_delays_a_new_key_for_as_long_as_a_request_may_take() {
    let worker = || engine(|c| c["store_secret"] = SECRET.into());
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    for worker in [&one, &two] {
        assert_eq!(decide(&mut world, worker, &jwt("EdDSA"), NOW), Reason::Allowed);
    }
    world.set(JWKS, keys(&["EdDSA", "ES256"]));
    let mut dead = begin(&one, &jwt("ES256"), NOW + 1);
    while !matches!(dead.step(), Step::Fetch(_)) {
        assert!(world.step(&mut dead, NOW + 1));
    }
    drop((dead, one));
    // It waits in vain, then asks itself.
    world.fetched.clear();
    assert_eq!(decide(&mut world, &two, &jwt("ES256"), NOW + 1), Reason::Allowed);
    assert_eq!(world.urls(), [JWKS]);
}

#[test]
fn whoever_has_no_certificate_causes_no_request_where_all_need_one() {
    let (strict, optional) = (engine(|_| {}), engine(|c| c["proof_of_possession_mtls"] = "optional".into()));
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(world.run(&mut begin_with(&strict, OPAQUE, None, NOW), NOW), Reason::CertificateMissing);
    assert_eq!(world.urls(), [""; 0]);
    assert_eq!(world.run(&mut begin_with(&optional, OPAQUE, None, NOW), NOW), Reason::CertificateMissing);
    assert_eq!(world.urls(), [DISCOVERY, INTROSPECTION]);
}

#[test]
fn rfc7662_4_b_leeway_does_not_stretch_what_is_remembered() {
    let engine = engine(|c| c["leeway"] = 60.into());
    let mut world = World::with_keys(&["EdDSA"]);
    world.set(INTROSPECTION, active(|r| r["exp"] = (NOW + 10).into()));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW), Reason::Allowed);
    world.set(INTROSPECTION, Page::Json(json!({"active": false})));
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 9), Reason::Allowed);
    assert_eq!(decide(&mut world, &engine, OPAQUE, NOW + 10), Reason::TokenInactive);
}

#[test]
fn a_page_for_people_where_metadata_was_looked_for_is_passed_over() {
    for page in [
        Page::Text(200, "text/html", "<html>".into()),
        Page::Text(401, "", String::new()),
        Page::Text(302, "", String::new()),
        Page::Text(500, "", String::new()),
        Page::Json(json!({"issuer": "https://other.test"})),
    ] {
        let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
        world.set(RFC8414, metadata(|_| {}));
        world.set(DISCOVERY, page);
        assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    }
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA"]));
    world.set(RFC8414, metadata(|_| {}));
    world.set(DISCOVERY, Page::Retry(503, "7"));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::KeysUnavailable);
    assert_eq!(world.urls(), [DISCOVERY]);
}

#[test]
fn the_order_of_the_keys_is_nothing_new() {
    let (engine, mut world) = (engine(|_| {}), World::with_keys(&["EdDSA", "ES256"]));
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    world.set(JWKS, keys(&["ES256", "EdDSA"]));
    assert_eq!(decide(&mut world, &engine, &jwt("PS256"), NOW), Reason::KeyUnknown);
    world.urls();
    // Still remembered: the counters say so.
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    let hits = engine
        .describe_counters()
        .into_iter()
        .zip(engine.counters())
        .filter(|(counter, value)| *value == 1 && counter.sample.contains("reason=\"allowed\",cache=\"hit\""));
    assert_eq!(hits.count(), 1);
}

#[test]
fn withdrawn_keys_do_not_come_back_out_of_the_store() {
    let engine = engine(|c| {
        c["store_secret"] = SECRET.into();
        c["keys_max_age"] = 100.into();
    });
    let mut world = World::with_keys(&["EdDSA"]);
    assert_eq!(decide(&mut world, &engine, &jwt("EdDSA"), NOW), Reason::Allowed);
    world.set(JWKS, Page::Json(json!({"keys": []})));
    let a = decide(&mut world, &engine, &jwt("EdDSA"), NOW + 100);
    let b = decide(&mut world, &engine, &mint("EdDSA", |c| c["jti"] = "z".into()), NOW + 101);
    assert_eq!((a, b), (Reason::KeysUnavailable, Reason::KeysUnavailable));
}

#[test]
fn a_refetch_whose_set_did_not_reach_the_store_holds_nobody_up() {
    let worker = || engine(|c| c["store_secret"] = SECRET.into());
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    for worker in [&one, &two] {
        assert_eq!(decide(&mut world, worker, &jwt("EdDSA"), NOW), Reason::Allowed);
    }
    world.set(JWKS, keys(&["EdDSA", "ES256"]));
    // The set is too large for the store.
    let mut check = begin(&one, &jwt("ES256"), NOW + 1);
    loop {
        if let Step::Store(store) = check.step()
            && store.operation == StoreOperation::Put
            && store.value.len() > 100
        {
            check.stored(NOW + 1, StoreAnswer::Failed).expect("a store");
            break;
        }
        assert!(world.step(&mut check, NOW + 1));
    }
    assert_eq!(world.run(&mut check, NOW + 1), Reason::Allowed);
    let r: Vec<_> = [2, 10, 29].iter().map(|t| decide(&mut world, &two, &jwt("ES256"), NOW + t)).collect();
    assert_eq!(r, [Reason::Allowed; 3]);
}

#[test]
fn a_set_from_before_the_token_is_no_refetch() {
    let worker = || engine(|c| c["store_secret"] = SECRET.into());
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    for worker in [&one, &two] {
        assert_eq!(decide(&mut world, worker, &jwt("EdDSA"), NOW), Reason::Allowed);
    }
    // A token by no known key, long before the rotation.
    assert_eq!(decide(&mut world, &one, &jwt("PS256"), NOW + 10), Reason::KeyUnknown);
    world.set(JWKS, keys(&["EdDSA", "ES256"]));
    // The time of the lock is over.
    world.store.retain(|_, value| value.len() > 60);
    let a = decide(&mut world, &two, &jwt("ES256"), NOW + 300);
    let b = decide(&mut world, &two, &jwt("ES256"), NOW + 300);
    assert_eq!((a, b), (Reason::Allowed, Reason::Allowed));
}

#[test]
fn keys_that_are_old_keep_one_request_of_a_worker_waiting_where_another_one_fetches() {
    let worker = || {
        engine(|c| {
            c["store_secret"] = SECRET.into();
            c["keys_max_age"] = 100.into();
        })
    };
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    for worker in [&one, &two] {
        assert_eq!(decide(&mut world, worker, &jwt("EdDSA"), NOW), Reason::Allowed);
    }
    let mut lead = begin(&one, &jwt("EdDSA"), NOW + 100);
    while !matches!(lead.step(), Step::Fetch(_)) {
        assert!(world.step(&mut lead, NOW + 100));
    }
    let mut follower = begin(&two, &jwt("EdDSA"), NOW + 100);
    for _ in 0..6 {
        assert!(world.step(&mut follower, NOW + 100));
    }
    let mut waiting = 0;
    for i in 0..5 {
        let c = begin(&two, &mint("EdDSA", |c| c["jti"] = i.to_string().into()), NOW + 100);
        waiting += usize::from(c.reason().is_none());
    }
    assert_eq!(waiting, 0);
}

#[test]
fn a_worker_whose_own_keys_are_too_old_takes_those_of_the_store() {
    let worker = || {
        engine(|c| {
            c["store_secret"] = SECRET.into();
            c["keys_max_age"] = 100.into();
            c["keys_max_stale"] = 1000.into();
        })
    };
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    let token = |j: &str| {
        mint("EdDSA", |c| {
            c["jti"] = j.into();
            c["exp"] = (NOW + 5000).into();
        })
    };
    for worker in [&one, &two] {
        assert_eq!(decide(&mut world, worker, &token("1"), NOW), Reason::Allowed);
    }
    assert_eq!(decide(&mut world, &one, &token("1"), NOW + 800), Reason::Allowed);
    world.set(DISCOVERY, Page::Fails(Outcome::Connect));
    world.set(JWKS, Page::Fails(Outcome::Connect));
    assert_eq!(decide(&mut world, &one, &token("2"), NOW + 1100), Reason::Allowed);
    assert_eq!(decide(&mut world, &two, &token("2"), NOW + 1100), Reason::Allowed);
}

#[test]
fn a_refetch_that_failed_elsewhere_is_503_here_too() {
    let worker = || engine(|c| c["store_secret"] = SECRET.into());
    let (one, two) = (worker(), worker());
    let mut world = World::with_keys(&["EdDSA"]);
    for worker in [&one, &two] {
        assert_eq!(decide(&mut world, worker, &jwt("EdDSA"), NOW), Reason::Allowed);
    }
    world.set(JWKS, Page::Fails(Outcome::Connect));
    let r = (decide(&mut world, &one, &jwt("ES256"), NOW + 1), decide(&mut world, &two, &jwt("ES256"), NOW + 2));
    assert_eq!(r, (Reason::KeysUnavailable, Reason::KeysUnavailable));
}
