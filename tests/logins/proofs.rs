//! DPoP proofs beside sessions, logins and grants: a cookie proves no key, and what the gateway holds for a client is not bound to the client's.

use std::sync::Arc;

use keybound::steps::{Endpoint, StoreOperation};
use keybound::{Engine, Reason};
use serde_json::{Value, json};

use crate::common::clients::{Key, ORIGIN};
use crate::common::{CLIENT_A, mint, named_jwk, without, x5t};
use crate::world::{Ask, Browser, SESSION, Seen, World, counter, engine as engine_of, page, program};

/// Sessions, tokens with and without proofs, and logins.
fn engine(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine_of(|c| {
        c["jwks"] = json!({"keys": [named_jwk("ES256")]});
        c["proof_of_possession_dpop"] = "optional".into();
        c["public_origin"] = ORIGIN.into();
        change(c);
    })
}

/// Likewise with a token of the gateway's own for the upstream.
fn with_own_token(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine(|c| {
        c["upstream_client_credentials"] = true.into();
        change(c);
    })
}

fn as_they_came(c: &mut Value) {
    c["upstream_dpop_as_bearer"] = false.into();
}

fn bearer(token: &str) -> Ask {
    Ask { authorization: Some(format!("Bearer {token}")), ..program("/data") }
}

fn proved(token: &str, proof: String) -> Ask {
    Ask { authorization: Some(format!("DPoP {token}")), proofs: vec![proof], ..program("/data") }
}

fn unbound() -> String {
    mint("ES256", |claims| without(claims, "cnf"))
}

/// A request of a program without cookies.
fn ask(world: &mut World, engine: &Arc<Engine>, ask: Ask) -> Seen {
    Browser::new().ask(world, engine, ask)
}

#[test]
fn rfc9449_7_a_a_proof_passes_once_beside_sessions_too() {
    let (key, engine, mut world) = (Key::new("ES256"), engine(|_| {}), World::new());
    let token = key.token();
    let request = proved(&token, key.proof(&token));
    let seen = ask(&mut world, &engine, request.clone());
    assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
    assert_eq!((seen.bearer(), seen.upstream("dpop")), (&*token, Some(None)));
    assert_eq!(ask(&mut world, &engine, request).reason, Reason::ProofReplayed);
    let thief = Key::new("ES256");
    assert_eq!(ask(&mut world, &engine, proved(&token, thief.proof(&token))).reason, Reason::ProofKeyMismatch);
    assert_eq!(ask(&mut world, &engine, bearer(&token)).reason, Reason::DpopSchemeRequired);
}

#[test]
fn no_session_begins_from_a_request_with_a_proof() {
    let (key, engine, mut world) = (Key::new("ES256"), engine(|_| {}), World::new());
    let token = key.token();
    let seen = ask(&mut world, &engine, proved(&token, key.proof(&token)));
    assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, 0));
    // Its twin is a token that nobody has to prove anything for.
    let seen = ask(&mut world, &engine, bearer(&unbound()));
    assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, 1));
    // And one that is bound to a certificate as well: its cookie would lack the other half.
    let engine = self::engine(|c| c["proof_of_possession_mtls"] = "optional".into());
    let both = key.token_with(|c| c["cnf"]["x5t#S256"] = x5t(CLIENT_A).into());
    let seen = ask(&mut world, &engine, proved(&both, key.proof(&both)));
    assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, 0));
}

#[test]
fn a_session_goes_on_with_its_own_token_and_without_a_proof_that_came_beside() {
    for change in [(|_| {}) as fn(&mut Value), as_they_came] {
        let (engine, mut world, mut browser) = (engine(change), World::new(), Browser::new());
        browser.login(&mut world, &engine);
        assert!(browser.cookie(SESSION).is_some());
        let key = Key::new("ES256");
        let token = key.token();
        for proof in [key.proof(&token), "x".into()] {
            let seen = browser.ask(&mut world, &engine, proved(&token, proof));
            assert_ne!(seen.bearer(), token);
            assert!(world.server.secrets.iter().any(|secret| secret == seen.bearer()));
            assert_eq!(seen.upstream("dpop"), Some(None));
        }
        // Nor does the upstream see one that came without a token.
        let seen = browser.ask(&mut world, &engine, Ask { proofs: vec!["x".into()], ..program("/data") });
        assert_eq!((seen.reason, seen.upstream("dpop")), (Reason::Allowed, Some(None)));
    }
}

#[test]
fn the_gateways_own_token_goes_without_the_clients_proof() {
    for change in [(|_| {}) as fn(&mut Value), as_they_came] {
        let (key, mut world) = (Key::new("ES256"), World::new());
        let token = key.token();
        let seen = ask(&mut world, &with_own_token(change), proved(&token, key.proof(&token)));
        assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
        assert_ne!(seen.bearer(), token);
        assert_eq!(seen.upstream("dpop"), Some(None));
        assert_eq!(world.sent(Endpoint::Token).len(), 1);
    }
    // The client's own goes with it.
    let (key, mut world) = (Key::new("ES256"), World::new());
    let token = key.token();
    let seen = ask(&mut world, &engine(as_they_came), proved(&token, key.proof(&token)));
    assert_eq!(seen.upstream("authorization"), Some(Some(&*format!("DPoP {token}"))));
    assert_eq!(seen.upstream("dpop"), None);
}

#[test]
fn hidden_credentials_are_hidden_with_their_proof_beside_sessions_too() {
    for as_bearer in [true, false] {
        let engine = engine(|c| {
            c["hide_credentials"] = true.into();
            c["upstream_dpop_as_bearer"] = as_bearer.into();
        });
        let (key, mut world) = (Key::new("ES256"), World::new());
        let token = key.token();
        let seen = ask(&mut world, &engine, proved(&token, key.proof(&token)));
        assert_eq!(seen.reason, Reason::Allowed);
        assert_eq!((seen.upstream("authorization"), seen.upstream("dpop")), (Some(None), Some(None)));
    }
}

#[test]
fn the_proof_is_spent_before_the_gateway_fetches_its_own_token() {
    let (key, engine, mut world) = (Key::new("ES256"), with_own_token(|_| {}), World::new());
    let token = key.token();
    let request = proved(&token, key.proof(&token));
    assert_eq!(ask(&mut world, &engine, request.clone()).reason, Reason::Allowed);
    world.fetched.clear();
    world.pass(50);
    let seen = ask(&mut world, &engine, request);
    assert_eq!(seen.reason, Reason::ProofReplayed);
    assert!(world.is_quiet());
}

#[test]
fn rfc9449_9_a_a_nonce_is_given_beside_sessions_too_to_a_browser_as_to_a_program() {
    let engine = engine(|c| {
        c["dpop_use_nonce"] = true.into();
        c["dpop_nonce_secret"] = "nonce secret of 32 characters...".into();
    });
    let (key, mut world) = (Key::new("ES256"), World::new());
    let token = key.token();
    for is_page in [false, true] {
        let of = |proof: String| {
            let request = proved(&token, proof);
            if is_page {
                Ask { authorization: request.authorization, proofs: request.proofs, ..page("/data") }
            } else {
                request
            }
        };
        let seen = ask(&mut world, &engine, of(key.proof(&token)));
        assert_eq!((seen.reason, seen.status), (Reason::ProofNonceMissing, 401));
        assert!(seen.challenge.as_deref().is_some_and(|challenge| challenge.contains("DPoP error=\"use_dpop_nonce\"")));
        assert_eq!(seen.header("cache-control"), Some("no-store"));
        let nonce = seen.header("dpop-nonce").expect("a nonce").to_owned();
        let with = || key.proof_with(&token, |_, c| c["nonce"] = nonce.clone().into());
        let seen = ask(&mut world, &engine, of(with()));
        assert_eq!((seen.reason, seen.header("dpop-nonce")), (Reason::Allowed, None));
        world.pass(30);
        let seen = ask(&mut world, &engine, of(with()));
        assert!(seen.reason == Reason::Allowed && seen.header("dpop-nonce").is_some());
        world.pass(-30);
    }
}

#[test]
fn a_refused_proof_begins_no_login() {
    let (key, engine, mut world) = (Key::new("ES256"), engine(|_| {}), World::new());
    let token = key.token();
    let request = proved(&token, "x".into());
    let navigation = Ask { authorization: request.authorization, proofs: request.proofs, ..page("/data") };
    let seen = ask(&mut world, &engine, navigation);
    assert_eq!((seen.reason, seen.status), (Reason::ProofMalformed, 401));
    assert_eq!(ask(&mut world, &engine, page("/data")).reason, Reason::LoginStarted);
}

#[test]
fn the_credentials_of_a_grant_go_with_no_proof_and_are_counted_as_unproved() {
    const SAMPLE: &str = "keybound_binding_skipped_total{method=\"password\"}";
    let with = |validates: bool| {
        let mut options = crate::world::options();
        options.as_object_mut().expect("an object").retain(|name, _| !name.starts_with("session"));
        for name in ["redirect_uri", "logout_uri_suffix"] {
            without(&mut options, name);
        }
        options["auth_methods"] = json!(["bearer", "password"]);
        options["proof_of_possession_dpop"] = "strict".into();
        options["public_origin"] = ORIGIN.into();
        options["proof_of_possession_auth_methods_validation"] = validates.into();
        Engine::new(options.to_string().as_bytes())
    };
    let error = with(true).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("not compatible with proof of possession"), "{error}");
    let engine = Arc::new(with(false).unwrap_or_else(|e| panic!("{e}")));
    let (mut world, alice) = (World::new(), "Basic YWxpY2U6YWxpY2UtcGFzc3dvcmQ=".to_owned());
    let seen = ask(&mut world, &engine, Ask { authorization: Some(alice), ..program("/data") });
    assert_eq!((seen.reason, counter(&engine, SAMPLE)), (Reason::Allowed, 1));
    let key = Key::new("ES256");
    let token = key.token();
    let seen = ask(&mut world, &engine, proved(&token, key.proof(&token)));
    assert_eq!((seen.reason, counter(&engine, SAMPLE)), (Reason::Allowed, 1));
    assert_eq!(world.operations.last().map(|store| store.operation), Some(StoreOperation::Add));
}

#[test]
fn a_login_without_a_certificate_is_no_way_round_strict_proofs() {
    for (dpop, mtls, cert, expected) in [
        ("strict", "optional", None, Reason::SessionCertificateMissing),
        ("strict", "optional", Some(CLIENT_A), Reason::Allowed),
        ("optional", "optional", None, Reason::Allowed),
        ("optional", "off", None, Reason::SessionCertificateMissing),
    ] {
        let engine = engine(|c| {
            c["proof_of_possession_dpop"] = dpop.into();
            c["proof_of_possession_mtls"] = mtls.into();
        });
        let (mut world, mut browser) = (World::new(), Browser::with(cert));
        let started = browser.ask(&mut world, &engine, page("/data")).reason;
        if expected == Reason::Allowed {
            assert_eq!(started, Reason::LoginStarted);
            browser.login(&mut world, &engine);
            assert_eq!(browser.call(&mut world, &engine), expected, "{dpop} {mtls}");
        } else {
            assert_eq!(started, expected, "{dpop} {mtls}");
        }
    } // A session that began by laxer rules is over by these.
    let of = |dpop: &str| {
        engine(|c| {
            c["proof_of_possession_dpop"] = dpop.into();
            c["proof_of_possession_mtls"] = "optional".into();
        })
    };
    for (dpop, expected) in [("optional", Reason::Allowed), ("strict", Reason::SessionInvalid)] {
        let (mut world, mut browser) = (World::new(), Browser::with(None));
        browser.login(&mut world, &of("optional"));
        assert_eq!(browser.call(&mut world, &of(dpop)), expected, "{dpop}");
    }
}
