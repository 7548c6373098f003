//! A store that has no room for what it may forget: that costs requests to the authorization server, and no decision.

use std::sync::Arc;

use keybound::steps::{Endpoint, Outcome, StoreOperation};
use keybound::{Engine, Reason, Step};
use serde_json::{Value, json};

use crate::common::{mint, without};
use crate::world::{Ask, Browser, Fault, STORAGES, Seen, World, api, engine, in_store, page, program};

fn world(is_full: bool) -> World {
    let mut world = World::new();
    world.is_full = is_full;
    world
}

fn logged_in(change: fn(&mut Value)) -> (World, Arc<Engine>, Browser) {
    let (mut world, engine, mut browser) = (world(true), engine(change), Browser::new());
    browser.login(&mut world, &engine);
    world.fetched.clear();
    (world, engine, browser)
}

/// A gateway without sessions.
fn bare(c: &mut Value, methods: &[&str]) {
    c.as_object_mut().expect("object").retain(|name, _| !name.starts_with("session") && !name.starts_with("logout"));
    without(c, "redirect_uri");
    without(c, "scopes");
    c["auth_methods"] = json!(methods);
    c["proof_of_possession_auth_methods_validation"] = false.into();
}

fn ask(world: &mut World, engine: &Arc<Engine>, ask: Ask) -> Seen {
    Browser::new().ask(world, engine, ask)
}

fn authorized(scheme: &str, credentials: &str) -> Ask {
    Ask { authorization: Some(format!("{scheme} {credentials}")), ..program("/data") }
}

/// How often an endpoint was asked since it was looked at last.
fn asked(world: &mut World, endpoint: Endpoint) -> usize {
    world.sent(endpoint).len()
}

// --- What can be fetched anew

#[test]
fn documents_introspections_and_tokens_for_credentials_may_be_forgotten_and_are_fetched_anew() {
    let opaque = "opaque-token";
    let jwt = mint("ES256", |_| {});
    let alice = "YWxpY2U6YWxpY2UtcGFzc3dvcmQ=";
    let robot = "cm9ib3Q6cm9ib3Qtc2VjcmV0";
    let cases: [(&str, Ask, &[Endpoint]); 4] = [
        ("bearer", authorized("Bearer", &jwt), &[Endpoint::Metadata, Endpoint::Jwks]),
        ("introspection", authorized("Bearer", opaque), &[Endpoint::Introspection]),
        ("password", authorized("Basic", alice), &[Endpoint::Token]),
        ("client_credentials", authorized("Basic", robot), &[Endpoint::Token]),
    ];
    for (method, request, endpoints) in cases {
        for is_full in [false, true] {
            let worker = || engine(|c| bare(c, &[method]));
            let (mut world, one, two) = (world(is_full), worker(), worker());
            world.server.secrets.push(opaque.into());
            let first = ask(&mut world, &one, request.clone());
            assert_eq!(first.reason, Reason::Allowed, "{method}: {}", first.detail);
            world.fetched.clear();
            assert_eq!(ask(&mut world, &two, request.clone()).reason, Reason::Allowed, "{method}");
            for endpoint in endpoints {
                let n = world.fetched.iter().filter(|fetch| fetch.endpoint == *endpoint).count();
                assert_eq!(n, usize::from(is_full), "{method} {endpoint:?}");
            }
        }
    }
}

// --- What cannot

#[test]
fn rfc6749_4_1_2_a_a_code_stays_used() {
    let (mut world, engine, mut browser) = (world(true), engine(|_| {}), Browser::new());
    let target = browser.start(&mut world, &engine, "/");
    let mut copy = browser.clone();
    assert_eq!(browser.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
    assert_eq!(asked(&mut world, Endpoint::Token), 1);
    assert_eq!(copy.come_back(&mut world, &self::engine(|_| {}), &target).reason, Reason::LoginStateReused);
    assert_eq!(asked(&mut world, Endpoint::Token), 0);
}

#[test]
fn a_session_stays() {
    let (mut world, _, mut browser) = logged_in(in_store);
    assert_eq!(browser.call(&mut world, &engine(in_store)), Reason::Allowed);
}

#[test]
fn the_end_of_a_session_stays() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    let mut copy = browser.clone();
    let seen = browser.ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") });
    assert_eq!(seen.reason, Reason::LoggedOut);
    world.pass(60);
    assert_eq!(copy.call(&mut world, &self::engine(|_| {})), Reason::SessionExpired);
}

#[test]
fn refreshed_tokens_stay() {
    for storage in STORAGES {
        let (mut world, engine, mut browser) = logged_in(storage);
        let mut old = browser.clone();
        world.pass(280);
        let new = browser.ask(&mut world, &engine, api("/")).bearer().to_owned();
        assert_eq!(asked(&mut world, Endpoint::Token), 1);
        assert_eq!(old.ask(&mut world, &self::engine(storage), api("/")).bearer(), new);
        assert_eq!(asked(&mut world, Endpoint::Token), 0);
    }
}

#[test]
fn that_a_refresh_was_refused_or_failed_stays() {
    let refused =
        (Fault::Answers(400, json!({"error": "invalid_grant"})), Reason::SessionRefused, Reason::LoginStarted);
    let failed = (Fault::Fails(Outcome::Connect), Reason::ServerUnavailable, Reason::ServerUnavailable);
    for storage in STORAGES {
        for (fault, first, then) in [refused.clone(), failed.clone()] {
            let (mut world, engine, mut browser) = logged_in(storage);
            let (mut copy, mut late) = (browser.clone(), browser.clone());
            world.pass(300);
            world.fault(Endpoint::Token, fault);
            // One that has found nothing before, and one that comes after.
            let mut under_way = late.begin(&world, &self::engine(storage), &page("/"));
            let is_add = |step: &Step<'_>| matches!(step, Step::Store(store) if store.operation == StoreOperation::Add);
            world.run_to(&mut under_way, is_add);
            assert_eq!(browser.call(&mut world, &engine), first);
            assert_eq!(asked(&mut world, Endpoint::Token), 1);
            assert_eq!(late.end(&mut world, &mut under_way).reason, then);
            assert_eq!(copy.ask(&mut world, &self::engine(storage), page("/")).reason, then);
            assert_eq!(asked(&mut world, Endpoint::Token), 0);
        }
    }
}

#[test]
fn rfc9700_4_14_2_what_came_for_a_refresh_token_stays() {
    let (mut world, engine, _) = logged_in(|_| {});
    let token = world.server.secrets.iter().rfind(|secret| secret.starts_with("refresh-")).expect("there").clone();
    drop(engine);
    let worker = || self::engine(|c| bare(c, &["refresh_token"]));
    let request = Ask { refresh_token: token, ..program("/data") };
    let first = ask(&mut world, &worker(), request.clone());
    let new = first.header("refresh-token").expect("a new one").to_owned();
    let again = ask(&mut world, &worker(), request);
    assert_eq!((again.bearer(), again.header("refresh-token")), (first.bearer(), Some(new.as_str())));
    assert_eq!(asked(&mut world, Endpoint::Token), 1);
}

#[test]
fn that_keys_could_not_be_fetched_again_stays() {
    let worker = || engine(|c| bare(c, &["bearer"]));
    let (mut world, one, two) = (world(false), worker(), worker());
    for worker in [&one, &two] {
        assert_eq!(ask(&mut world, worker, authorized("Bearer", &mint("ES256", |_| {}))).reason, Reason::Allowed);
    }
    world.is_full = true;
    world.fetched.clear();
    world.fault(Endpoint::Jwks, Fault::Fails(Outcome::Connect));
    for (worker, n) in [(&one, 1), (&two, 0)] {
        let seen = ask(&mut world, worker, authorized("Bearer", &mint("EdDSA", |_| {})));
        assert_eq!((seen.reason, asked(&mut world, Endpoint::Jwks)), (Reason::KeysUnavailable, n));
    }
}
