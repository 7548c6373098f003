//! Logouts.

use std::sync::Arc;

use keybound::steps::{Endpoint, Outcome};
use keybound::{Engine, Reason};
use serde_json::{Value, json};

use crate::common::{mint, without};
use crate::world::{
    Ask, Browser, Change, END_SESSION, Fault, SESSION, STORAGES, World, api, counter, engine, get, page, pairs, program,
};

const BACK: &str = "https://api.test/bye?x=y";

fn logged_in(change: impl FnOnce(&mut Value)) -> (World, Arc<Engine>, Browser) {
    let (mut world, engine, mut browser) = (World::new(), engine(change), Browser::new());
    browser.login(&mut world, &engine);
    world.fetched.clear();
    (world, engine, browser)
}

/// A form of our own page.
fn form(target: &str) -> Ask {
    Ask { method: "POST", site: "same-origin", origin: "https://api.test", ..page(target) }
}

fn revoked(world: &World) -> Vec<&str> {
    world.server.revoked.iter().map(|(hint, _)| hint.as_str()).collect()
}

#[test]
fn rfc7009_2_1_a_a_logout_ends_the_session_here_and_its_tokens_there_the_refresh_token_first() {
    for storage in STORAGES {
        let (mut world, engine, mut browser) = logged_in(|c| {
            storage(c);
            c["logout_redirect_uri"] = BACK.into();
        });
        let access = browser.ask(&mut world, &engine, api("/")).bearer().to_owned();
        let seen = browser.ask(&mut world, &engine, form("/logout"));
        assert_eq!((seen.reason, seen.status, seen.detail.as_str()), (Reason::LoggedOut, 302, ""));
        assert_eq!(revoked(&world), ["refresh_token", "access_token"]);
        assert_eq!(world.server.revoked[1].1, access);
        assert!(world.server.revoked[0].1.starts_with("refresh-"));
        let fetch = world.fetched.iter().find(|fetch| fetch.endpoint == Endpoint::Revocation).expect("asked");
        assert_eq!(engine.tls_profiles()[fetch.tls].name.as_deref(), Some("gateway"));
        assert!(!browser.has_session());
        assert_eq!(browser.call(&mut world, &engine), Reason::NoToken);
        assert_eq!(counter(&engine, "keybound_revocations_total{result=\"done\"}"), 2);
    }
}

#[test]
fn the_options_say_what_is_revoked() {
    for (options, expected) in [
        (json!({}), vec!["refresh_token", "access_token"]),
        (json!({"logout_revoke_access_token": false}), vec!["refresh_token"]),
        (json!({"logout_revoke_refresh_token": false}), vec!["access_token"]),
        (json!({"logout_revoke": false}), vec![]),
    ] {
        let (mut world, engine, mut browser) = logged_in(|c| {
            for (name, value) in options.as_object().expect("object") {
                c[name] = value.clone();
            }
        });
        assert_eq!(browser.ask(&mut world, &engine, form("/logout")).reason, Reason::LoggedOut);
        assert_eq!(revoked(&world), expected);
        assert!(!browser.has_session());
    }
}

#[test]
fn a_revocation_that_fails_is_told_and_counted_and_the_user_is_out_all_the_same() {
    for fault in [
        Fault::Fails(Outcome::Connect),
        Fault::Answers(503, json!({})),
        Fault::Answers(400, json!({"error": "unsupported_token_type"})),
    ] {
        for storage in STORAGES {
            let (mut world, engine, mut browser) = logged_in(storage);
            let mut copy = browser.clone();
            world.fault(Endpoint::Revocation, fault.clone());
            let seen = browser.ask(&mut world, &engine, form("/logout"));
            assert_eq!(seen.reason, Reason::LoggedOut);
            assert!(seen.detail.contains("the refresh_token could not be revoked: "), "{}", seen.detail);
            assert!(seen.detail.contains("the access_token could not be revoked: "), "{}", seen.detail);
            assert_eq!(seen.detail.contains("unsupported_token_type"), seen.detail.contains("status 400"));
            assert!(!browser.has_session());
            assert_eq!(counter(&engine, "keybound_revocations_total{result=\"failed\"}"), 2);
            if engine_has_store(storage) {
                assert_eq!(copy.call(&mut world, &engine), Reason::SessionExpired);
            }
        }
    }
    // With the whole server.
    let (mut world, engine, mut browser) = logged_in(|c| c["logout_redirect_uri"] = BACK.into());
    world.take_down();
    world.pass(4000 - 3900);
    let seen = browser.ask(&mut world, &engine, form("/logout"));
    assert_eq!(seen.reason, Reason::LoggedOut);
    assert!(!browser.has_session());
}

fn engine_has_store(storage: Change) -> bool {
    let mut options = json!({});
    storage(&mut options);
    options["session_storage"] == "store"
}

#[test]
fn a_server_without_a_revocation_endpoint_is_no_obstacle() {
    let (mut world, mut browser) = (World::new(), Browser::new());
    let engine = engine(|_| {});
    without(&mut world.server.metadata, "revocation_endpoint");
    browser.login(&mut world, &engine);
    let seen = browser.ask(&mut world, &engine, form("/logout"));
    assert_eq!(seen.reason, Reason::LoggedOut);
    assert!(seen.detail.contains("the metadata has no revocation_endpoint"), "{}", seen.detail);
    assert!(!browser.has_session());
}

#[test]
fn which_requests_log_out() {
    for (methods, ask, is_logout) in [
        (None, form("/logout"), true),
        (None, form("/app/logout?x=y"), true),
        (None, Ask { method: "DELETE", ..api("/logout") }, true),
        (None, page("/logout"), false),
        (None, Ask { method: "PUT", ..api("/logout") }, false),
        (None, form("/logout/x"), false),
        (None, form("/Logout"), false),
        (None, form("/xlogout"), false),
        (None, form("/?/logout"), false),
        (Some(json!(["GET"])), page("/logout"), true),
        (Some(json!(["GET"])), form("/logout"), false),
    ] {
        let what = format!("{} {}", ask.method, ask.target);
        let (mut world, engine, mut browser) = logged_in(|c| {
            if let Some(methods) = methods {
                c["logout_methods"] = methods;
            }
        });
        let seen = browser.ask(&mut world, &engine, ask);
        assert_eq!(seen.reason, if is_logout { Reason::LoggedOut } else { Reason::Allowed }, "{what}");
        assert_eq!(browser.has_session(), !is_logout);
    }
    let (mut world, engine, mut browser) = logged_in(|c| without(c, "logout_uri_suffix"));
    assert_eq!(browser.ask(&mut world, &engine, form("/logout")).reason, Reason::Allowed);
}

#[test]
fn another_site_logs_nobody_out() {
    let own = form("/logout");
    let older = Ask { site: "", ..own.clone() };
    for (what, ask, is_logout) in [
        ("our own page", own.clone(), true),
        ("the address bar", Ask { site: "none", origin: "", ..own.clone() }, true),
        ("a script of ours", Ask { method: "DELETE", ..api("/logout") }, true),
        ("an older browser", older.clone(), true),
        ("an older browser, in capitals", Ask { origin: "HTTPS://API.test", ..older.clone() }, true),
        ("a program", Ask { method: "POST", ..program("/logout") }, true),
        ("another site", Ask { site: "cross-site", ..own.clone() }, false),
        ("a host beside ours", Ask { site: "same-site", ..own.clone() }, false),
        ("a word of tomorrow", Ask { site: "same-party", ..own.clone() }, false),
        ("another site, that says it is ours", Ask { site: "cross-site", origin: "https://api.test", ..own }, false),
        ("an older browser, from elsewhere", Ask { origin: "https://evil.test", ..older.clone() }, false),
        ("from a sandbox", Ask { origin: "null", ..older.clone() }, false),
        ("without TLS", Ask { origin: "http://api.test", ..older.clone() }, false),
        ("another port", Ask { origin: "https://api.test:8443", ..older.clone() }, false),
        ("a name that begins likewise", Ask { origin: "https://api.test.evil.test", ..older }, false),
    ] {
        let (mut world, engine, mut browser) = logged_in(|_| {});
        let seen = browser.ask(&mut world, &engine, ask);
        if is_logout {
            assert_eq!(seen.reason, Reason::LoggedOut, "{what}");
        } else {
            assert_eq!((seen.reason, seen.status), (Reason::LogoutCrossSite, 403), "{what}");
            assert!(seen.cookies().is_empty() && browser.has_session() && world.is_quiet());
            assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
        }
    }
}

#[test]
fn oidc_rp_initiated_logout_2_a_the_browser_goes_on_to_log_out_at_the_server() {
    for (back, endpoint) in [(Some(BACK), None), (None, None), (Some(BACK), Some("https://login.test/end?tenant=1"))] {
        let (mut world, engine, mut browser) = logged_in(|c| {
            if let Some(back) = back {
                c["logout_redirect_uri"] = back.into();
            }
            if let Some(endpoint) = endpoint {
                c["end_session_endpoint"] = endpoint.into();
            }
        });
        let seen = browser.ask(&mut world, &engine, form("/logout"));
        let (url, query) = seen.location().split_once('?').expect("a query");
        assert_eq!(url, endpoint.map_or(END_SESSION, |_| "https://login.test/end"));
        let sent = pairs(query.as_bytes());
        assert_eq!(get(&sent, "tenant").is_some(), endpoint.is_some());
        assert_eq!(get(&sent, "client_id"), Some("gateway"));
        assert_eq!(get(&sent, "post_logout_redirect_uri"), back);
        let hint = get(&sent, "id_token_hint").expect("there");
        assert!(world.server.secrets.iter().any(|secret| secret == hint));
        assert_eq!(
            (seen.header("cache-control"), seen.header("referrer-policy")),
            (Some("no-store"), Some("no-referrer"))
        );
    }
}

#[test]
fn without_an_endpoint_or_an_id_token_the_browser_goes_to_the_configured_page() {
    for back in [Some(BACK), None] {
        let (mut world, mut browser) = (World::new(), Browser::new());
        let engine = engine(|c| {
            if let Some(back) = back {
                c["logout_redirect_uri"] = back.into();
            }
        });
        without(&mut world.server.metadata, "end_session_endpoint");
        browser.login(&mut world, &engine);
        let mut other = browser.clone();
        let seen = browser.ask(&mut world, &engine, form("/logout"));
        match back {
            Some(back) => assert_eq!((seen.status, seen.location()), (302, back)),
            None => {
                assert_eq!((seen.status, seen.header("location")), (200, None));
                assert!(seen.is_page() && seen.body.contains("You are logged out."));
            }
        }
        // A program gets JSON, with where a browser could go on.
        let seen = other.ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") });
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        assert_eq!((seen.status, &body["message"], body["logout_uri"].as_str()), (200, &json!("Logged out"), back));
        assert!(seen.content_type.starts_with("application/json") && !other.has_session());
    }
    // A session of a bearer token: there is no login at the server to be ended.
    let (mut world, mut browser) = (World::new(), Browser::new());
    let engine = engine(|c| c["logout_redirect_uri"] = BACK.into());
    let token = mint("ES256", |_| {});
    browser.ask(&mut world, &engine, Ask { authorization: Some(format!("Bearer {token}")), ..program("/") });
    let seen = browser.ask(&mut world, &engine, form("/logout"));
    assert_eq!((seen.location(), revoked(&world)), (BACK, vec!["access_token"]));
}

#[test]
fn a_metadata_that_names_another_host_sends_no_browser_there() {
    let (mut world, mut browser) = (World::new(), Browser::new());
    let engine = engine(|c| c["logout_redirect_uri"] = BACK.into());
    world.server.metadata["end_session_endpoint"] = "https://evil.test/logout".into();
    browser.login(&mut world, &engine);
    let seen = browser.ask(&mut world, &engine, form("/logout"));
    assert_eq!((seen.reason, seen.location()), (Reason::LoggedOut, BACK));
    assert!(seen.detail.contains("evil.test"), "{}", seen.detail);
}

#[test]
fn who_has_no_session_is_logged_out_already() {
    let (mut world, engine) = (World::new(), engine(|c| c["logout_redirect_uri"] = BACK.into()));
    for cookie in [None, Some("1.AAAA"), Some("garbage")] {
        let mut browser = Browser::new();
        if let Some(cookie) = cookie {
            browser.set(SESSION, cookie);
        }
        let seen = browser.ask(&mut world, &engine, form("/logout"));
        assert_eq!((seen.reason, seen.location()), (Reason::LoggedOut, BACK));
        assert!(!browser.has_session() && world.server.revoked.is_empty());
    }
}

#[test]
fn a_session_of_several_cookies_leaves_none_of_them() {
    let (mut world, mut browser) = (World::new(), Browser::new());
    let engine = engine(|_| {});
    world.server.id_token = |claims| claims["groups"] = "x".repeat(4500).into();
    browser.login(&mut world, &engine);
    assert!(browser.jar.len() > 2);
    assert_eq!(browser.ask(&mut world, &engine, form("/logout")).reason, Reason::LoggedOut);
    assert!(browser.jar.is_empty());
}

#[test]
fn a_session_that_is_over_can_be_logged_out_with_its_tokens() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    world.pass(100_000);
    assert_eq!(browser.ask(&mut world, &engine, form("/logout")).reason, Reason::LoggedOut);
    assert_eq!(revoked(&world), ["refresh_token", "access_token"]);
}
