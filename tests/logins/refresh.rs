//! Refreshing the access token of a session: when, by whom, and what becomes of it.

use std::sync::Arc;

use keybound::steps::{Endpoint, Outcome, StoreOperation};
use keybound::{Check, Engine, Reason, Step};
use serde_json::{Value, json};

use crate::common::without;
use crate::world::{Ask, Browser, Change, Fault, SESSION, STORAGES, Seen, World, api, engine, get, in_store, page};

/// A browser that is logged in with a token of 300 seconds that can be refreshed.
fn logged_in(change: impl FnOnce(&mut Value)) -> (World, Arc<Engine>, Browser) {
    let (mut world, engine, mut browser) = (World::new(), engine(change), Browser::new());
    browser.login(&mut world, &engine);
    world.fetched.clear();
    world.operations.clear();
    (world, engine, browser)
}

fn call(world: &mut World, engine: &Arc<Engine>, browser: &mut Browser) -> Seen {
    browser.ask(world, engine, api("/"))
}

/// How often the token endpoint was asked since it was looked at last.
fn asked(world: &mut World) -> usize {
    world.sent(Endpoint::Token).len()
}

fn is_at_token(step: &Step<'_>) -> bool {
    matches!(step, Step::Fetch(fetch) if fetch.endpoint == Endpoint::Token)
}

fn is_at(operation: StoreOperation) -> impl Fn(&Step<'_>) -> bool {
    move |step| matches!(step, Step::Store(store) if store.operation == operation)
}

// --- When

#[test]
fn a_token_is_refreshed_so_long_before_its_end_and_in_the_last_third_of_a_short_life() {
    for (life, margin, due) in [
        (300, None, 270),
        (300, Some(100), 200),
        (300, Some(0), 300),
        (300, Some(3600), 200),
        (60, None, 40),
        (3, None, 2),
    ] {
        for (wait, is_due) in [(due - 1, false), (due, true)] {
            let (mut world, mut browser) = (World::new(), Browser::new());
            world.server.life = life;
            let engine = engine(|c| {
                if let Some(margin) = margin {
                    c["refresh_margin"] = margin.into();
                }
            });
            browser.login(&mut world, &engine);
            world.pass(wait);
            world.fetched.clear();
            let seen = call(&mut world, &engine, &mut browser);
            assert_eq!(seen.reason, Reason::Allowed, "{life} {margin:?} {wait}");
            assert_eq!(asked(&mut world), usize::from(is_due), "{life} {margin:?} {wait}");
            assert_eq!(seen.cookies().len(), usize::from(is_due || wait >= 60));
        }
    }
}

#[test]
fn nothing_is_refreshed_where_that_is_off() {
    let (mut world, engine, mut browser) = logged_in(|c| c["refresh_tokens"] = false.into());
    world.pass(299);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    world.pass(1);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::SessionExpired);
    assert!(world.is_quiet());
}

#[test]
fn rfc6749_6_a_the_request_has_these_parameters_and_the_upstream_gets_the_new_token() {
    for storage in STORAGES {
        let (mut world, engine, mut browser) = logged_in(storage);
        let old = call(&mut world, &engine, &mut browser).bearer().to_owned();
        world.pass(280);
        let seen = call(&mut world, &engine, &mut browser);
        let new = seen.bearer().to_owned();
        assert_ne!(new, old);
        let [form] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
        let names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["grant_type", "refresh_token", "client_id"]);
        assert_eq!(get(form, "grant_type"), Some("refresh_token"));
        // And so again, by the refresh token that came in place of the first.
        for _ in 0..3 {
            assert_eq!(call(&mut world, &engine, &mut browser).bearer(), new);
        }
        world.pass(280);
        assert_ne!(call(&mut world, &engine, &mut browser).bearer(), new);
        assert_eq!(asked(&mut world), 1);
    }
}

#[test]
fn what_the_answer_leaves_out_stays() {
    // Without rotation the refresh token is good again; a response without an ID token leaves the old one.
    let (mut world, engine, mut browser) = logged_in(|c| c["logout_redirect_uri"] = "https://api.test/".into());
    world.server.answer = |answer| without(answer, "id_token");
    world.pass(280);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    world.server.answer = |answer| without(answer, "refresh_token");
    world.pass(280);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    assert_eq!(asked(&mut world), 2);
    let seen = browser.ask(&mut world, &engine, Ask { method: "POST", ..page("/logout") });
    assert!(seen.location().contains("id_token_hint="));
    assert_eq!(world.server.revoked.iter().filter(|(hint, _)| hint == "refresh_token").count(), 1);
}

// --- By whom

#[test]
fn two_workers_at_the_same_moment_refresh_once() {
    for storage in STORAGES {
        let (mut world, engine, browser) = logged_in(storage);
        let worker = self::engine(storage);
        let (mut one, mut two) = (browser.clone(), browser.clone());
        // Dead by now: who does not refresh has to wait.
        world.pass(300);
        let (ask, before) = (api("/"), world.ms);
        let mut leader = one.begin(&world, &engine, &ask);
        let mut follower = two.begin(&world, &worker, &ask);
        world.run_to(&mut leader, is_at_token);
        // The follower finds the lock, and looks again after a while.
        for _ in 0..10 {
            assert!(world.step(&mut follower));
        }
        assert!(world.ms > before && world.now() < before / 1000 + 2);
        let first = one.end(&mut world, &mut leader);
        let second = two.end(&mut world, &mut follower);
        assert_eq!(first.bearer(), second.bearer());
        assert_eq!(asked(&mut world), 1);
        for browser in [&mut one, &mut two] {
            assert_eq!(call(&mut world, &worker, browser).bearer(), first.bearer());
        }
    }
}

#[test]
fn who_finds_another_at_it_goes_on_with_a_token_that_lives() {
    let (mut world, engine, browser) = logged_in(|_| {});
    let (mut one, mut two) = (browser.clone(), browser);
    let old = call(&mut world, &engine, &mut two).bearer().to_owned();
    world.pass(280);
    let ask = api("/");
    let mut leader = one.begin(&world, &engine, &ask);
    world.run_to(&mut leader, is_at_token);
    let before = world.ms;
    let follower = call(&mut world, &self::engine(|_| {}), &mut two);
    assert_eq!((follower.bearer(), world.ms), (old.as_str(), before));
    assert_ne!(one.end(&mut world, &mut leader).bearer(), old);
    assert_eq!(asked(&mut world), 1);
}

#[test]
fn who_gets_the_lock_just_after_another_was_done_does_not_use_the_old_token_again() {
    for storage in STORAGES {
        let (mut world, engine, browser) = logged_in(storage);
        let (mut one, mut two) = (browser.clone(), browser);
        world.pass(280);
        let (ask, worker) = (api("/"), self::engine(storage));
        // It has looked for news, and found none, when the other does all of its work.
        let mut late = two.begin(&world, &worker, &ask);
        world.run_to(&mut late, is_at(StoreOperation::Add));
        let first = call(&mut world, &engine, &mut one);
        let second = two.end(&mut world, &mut late);
        assert_eq!(first.bearer(), second.bearer());
        assert_eq!(asked(&mut world), 1);
        world.pass(280);
        assert_eq!(call(&mut world, &engine, &mut one).reason, Reason::Allowed);
    }
}

#[test]
fn a_worker_that_dies_at_it_does_not_stop_the_others_for_long() {
    let (mut world, engine, mut browser) = logged_in(|c| c["refresh_margin"] = 100.into());
    world.pass(210);
    let mut leader = browser.begin(&world, &engine, &api("/"));
    world.run_to(&mut leader, is_at_token);
    // The request was not sent.
    drop(leader);
    world.pass(14);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    assert_eq!(asked(&mut world), 0);
    world.pass(1);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    assert_eq!(asked(&mut world), 1);
}

#[test]
fn a_cookie_from_before_the_refresh_gets_the_new_tokens_whenever_it_comes() {
    for storage in STORAGES {
        for wait in [0, 119, 121, 260, 600] {
            let (mut world, engine, mut browser) = logged_in(storage);
            world.pass(280);
            // The answer was lost, or crossed another.
            let mut old = browser.clone();
            let new = call(&mut world, &engine, &mut browser).bearer().to_owned();
            assert_eq!(asked(&mut world), 1);
            world.pass(wait);
            let seen = call(&mut world, &self::engine(storage), &mut old);
            assert_eq!(seen.reason, Reason::Allowed, "{wait}: {}", seen.detail);
            assert_eq!((seen.bearer() == new, asked(&mut world)), (wait < 270, usize::from(wait > 270)));
            // Both go on.
            world.pass(290);
            assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
            assert_eq!(call(&mut world, &engine, &mut old).reason, Reason::Allowed);
        }
    }
}

#[test]
fn a_cookie_from_before_several_refreshes_of_short_tokens_goes_on_too() {
    let (mut world, mut browser) = (World::new(), Browser::new());
    let engine = engine(|_| {});
    world.server.life = 30;
    browser.login(&mut world, &engine);
    world.pass(25);
    let mut old = browser.clone();
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    // The answer was lost; what came instead of the old token is over by now, and can be refreshed.
    world.pass(35);
    world.fetched.clear();
    let seen = call(&mut world, &engine, &mut old);
    assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
    assert_eq!(asked(&mut world), 1);
    // Likewise where the browser that has the newest went on.
    let mut older = browser.clone();
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    assert_eq!(call(&mut world, &engine, &mut older).reason, Reason::Allowed);
    assert_eq!(asked(&mut world), 0);
}

// --- The server says no

#[test]
fn rfc6749_5_2_a_invalid_grant_ends_the_session() {
    for storage in STORAGES {
        let (mut world, engine, mut browser) = logged_in(storage);
        let mut copy = browser.clone();
        world.pass(280);
        world.fault(Endpoint::Token, Fault::Answers(400, json!({"error": "invalid_grant"})));
        let seen = call(&mut world, &engine, &mut browser);
        assert_eq!((seen.reason, seen.status), (Reason::SessionRefused, 401));
        assert!(!browser.has_session() && asked(&mut world) == 1);
        // The no is remembered for others.
        let seen = copy.ask(&mut world, &self::engine(storage), page("/"));
        assert_eq!((seen.reason, seen.detail.is_empty()), (Reason::LoginStarted, false));
        assert_eq!(asked(&mut world), 0);
    }
}

#[test]
fn who_waits_for_a_refresh_that_is_refused_does_not_ask_again() {
    let (mut world, engine, browser) = logged_in(|_| {});
    let (mut one, mut two) = (browser.clone(), browser);
    world.pass(300);
    world.fault(Endpoint::Token, Fault::Answers(400, json!({"error": "invalid_grant"})));
    let mut leader = one.begin(&world, &engine, &api("/"));
    let mut follower = two.begin(&world, &self::engine(|_| {}), &api("/"));
    world.run_to(&mut leader, is_at_token);
    for _ in 0..8 {
        assert!(world.step(&mut follower));
    }
    assert_eq!(one.end(&mut world, &mut leader).reason, Reason::SessionRefused);
    assert_eq!(two.end(&mut world, &mut follower).reason, Reason::SessionRefused);
    assert_eq!(asked(&mut world), 1);
}

#[test]
fn rfc9700_4_14_2_a_a_refresh_token_that_comes_twice_ends_both_sessions() {
    let unbound = |c: &mut Value| {
        c["session_bind_certificate"] = false.into();
        c["proof_of_possession_mtls"] = "off".into();
    };
    let (mut world, engine, mut browser) = logged_in(unbound);
    let mut thief = browser.stolen(None);
    world.pass(280);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    // Where nobody knows of the refresh.
    let elsewhere = self::engine(|c| {
        unbound(c);
        c["store_secret"] = "another store of 32 characters...".into();
    });
    assert_eq!(call(&mut world, &elsewhere, &mut thief).reason, Reason::SessionRefused);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    world.pass(280);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::SessionRefused);
}

// --- The server is down

#[test]
fn while_the_server_is_down_a_session_goes_on_until_its_token_is_over() {
    for storage in STORAGES {
        for fault in [
            Fault::Fails(Outcome::Connect),
            Fault::Fails(Outcome::Timeout),
            Fault::Answers(500, json!({})),
            Fault::Answers(503, json!({"error": "temporarily_unavailable"})),
            Fault::Answers(401, json!({"error": "invalid_client"})),
            Fault::Answers(400, json!({"error": "invalid_request"})),
            Fault::Answers(200, json!({"access_token": "x", "token_type": "DPoP"})),
        ] {
            let (mut world, engine, mut browser) = logged_in(storage);
            let token = call(&mut world, &engine, &mut browser).bearer().to_owned();
            world.pass(275);
            world.fault(Endpoint::Token, fault);
            let seen = call(&mut world, &engine, &mut browser);
            assert_eq!((seen.bearer(), asked(&mut world)), (token.as_str(), 1));
            // Nobody asks again at once.
            world.pass(4);
            assert_eq!(call(&mut world, &self::engine(storage), &mut browser).reason, Reason::Allowed);
            assert_eq!(asked(&mut world), 0);
            world.pass(1);
            assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
            assert_eq!(asked(&mut world), 1);
            // It is over; the session is kept.
            world.pass(20);
            let seen = browser.ask(&mut world, &engine, page("/"));
            assert_eq!((seen.reason, seen.status, seen.retry_after), (Reason::ServerUnavailable, 503, Some(5)));
            assert!(seen.is_page() && browser.has_session() && !seen.detail.is_empty());
            world.heal();
            world.pass(5);
            let seen = call(&mut world, &engine, &mut browser);
            assert_ne!(seen.bearer(), token);
        }
    }
}

#[test]
fn who_cannot_be_served_is_not_made_to_wait_while_the_server_rests() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    world.pass(300);
    world.fault(Endpoint::Token, Fault::Fails(Outcome::Connect));
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::ServerUnavailable);
    let before = world.ms;
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::ServerUnavailable);
    assert!(world.ms - before < 500, "{} ms", world.ms - before);
    assert_eq!(asked(&mut world), 1);
}

#[test]
fn without_the_store_nobody_refreshes_and_a_token_that_is_over_is_503() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    world.pass(280);
    world.break_store();
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    world.pass(20);
    let seen = call(&mut world, &engine, &mut browser);
    assert_eq!((seen.reason, seen.status), (Reason::StoreUnavailable, 503));
    assert!(browser.has_session() && asked(&mut world) == 0);
    world.heal();
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
}

// --- What comes of it

#[test]
fn oidc_12_2_a_the_id_token_of_a_refresh_is_of_the_same_user_and_client() {
    let changes: [Change; 6] = [
        |c| c["sub"] = "mallory".into(),
        |c| c["iss"] = "https://evil.test".into(),
        |c| c["aud"] = "other".into(),
        |c| c["at_hash"] = "77QmUPtjPfzWtF2AnpK9RQ".into(),
        |c| c["exp"] = 1.into(),
        |c| without(c, "sub"),
    ];
    for change in changes {
        let (mut world, engine, mut browser) = logged_in(|_| {});
        world.pass(280);
        world.server.id_token = change;
        assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::SessionRefused);
        assert!(!browser.has_session());
    }
    // A nonce may be repeated, and may be absent.
    for change in [(|_| {}) as Change, |c| c["nonce"] = "whatever it was".into()] {
        let (mut world, engine, mut browser) = logged_in(|_| {});
        let token = call(&mut world, &engine, &mut browser).bearer().to_owned();
        world.pass(280);
        world.server.id_token = change;
        assert_ne!(call(&mut world, &engine, &mut browser).bearer(), token);
    }
}

#[test]
fn who_may_do_something_else_now_has_another_session() {
    for (scope, is_new) in [("read", false), ("read write", true)] {
        let (mut world, engine, mut browser) = logged_in(in_store);
        let before = browser.cookie(SESSION).expect("there").to_owned();
        let mut copy = browser.clone();
        world.pass(280);
        world.server.scope = scope;
        assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
        assert_eq!(browser.cookie(SESSION) != Some(before.as_str()), is_new, "{scope}");
        assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
        // Requests that were under way come to the same one.
        assert_eq!(call(&mut world, &engine, &mut copy).reason, Reason::Allowed);
        assert_eq!(copy.cookie(SESSION), browser.cookie(SESSION));
        // And what is left of the one before is soon gone.
        let mut late = browser.clone();
        late.set(SESSION, &before);
        world.pass(121);
        let expected = if is_new { Reason::SessionExpired } else { Reason::Allowed };
        assert_eq!(call(&mut world, &engine, &mut late).reason, expected);
        assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    }
}

#[test]
fn a_new_token_is_held_to_the_rules() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    world.pass(280);
    world.server.access_token = |claims| claims["aud"] = "https://other.test".into();
    let seen = call(&mut world, &engine, &mut browser);
    assert_eq!((seen.reason, seen.status), (Reason::AudienceMismatch, 401));
    // Another login would give no other.
    assert!(browser.has_session());
}

#[test]
fn new_tokens_are_kept_where_the_request_itself_is_refused() {
    for storage in STORAGES {
        // 403: the session goes on, and so its cookie has to hold the new refresh token.
        let (mut world, engine, mut browser) = logged_in(|c| {
            storage(c);
            c["scopes_required"] = json!(["read"]);
        });
        world.pass(280);
        world.server.scope = "write";
        let seen = call(&mut world, &engine, &mut browser);
        assert_eq!((seen.reason, seen.status), (Reason::InsufficientScope, 403));
        assert!(browser.has_session() && asked(&mut world) == 1);
        world.pass(280);
        world.server.scope = "read";
        let seen = call(&mut world, &engine, &mut browser);
        assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
    }
}

#[test]
fn new_tokens_are_kept_where_the_upstreams_cannot_be_had() {
    let (mut world, engine, mut browser) = logged_in(|c| c["upstream_client_credentials"] = true.into());
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    world.pass(280);
    world.fetched.clear();
    let ask = page("/");
    let mut check = browser.begin(&world, &engine, &ask);
    world.run_to(&mut check, is_at_token);
    assert!(world.step(&mut check));
    world.fault(Endpoint::Token, Fault::Fails(Outcome::Connect));
    let seen = browser.end(&mut world, &mut check);
    assert_eq!((seen.reason, seen.status), (Reason::ServerUnavailable, 503));
    assert!(seen.is_page());
    world.heal();
    world.pass(290);
    let seen = call(&mut world, &engine, &mut browser);
    assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
}

#[test]
fn new_tokens_are_kept_by_a_worker_that_has_no_keys_to_check_them_with() {
    let (mut world, engine, mut browser) = logged_in(|c| c["logout_redirect_uri"] = "https://api.test/".into());
    world.pass(280);
    world.fault(Endpoint::Jwks, Fault::Fails(Outcome::Connect));
    let worker = self::engine(|c| c["store_secret"] = "another store, with no keys in it".into());
    let seen = call(&mut world, &worker, &mut browser);
    assert_eq!((seen.reason, seen.cookies().len(), asked(&mut world)), (Reason::KeysUnavailable, 1, 1));
    world.heal();
    world.pass(10);
    assert_eq!(call(&mut world, &engine, &mut browser).reason, Reason::Allowed);
    assert_eq!(asked(&mut world), 0);
    // The ID token that was not checked is not used.
    let hint =
        world.server.secrets.iter().filter(|secret| secret.matches('.').count() == 2).nth(1).expect("there").clone();
    let seen = browser.ask(&mut world, &engine, Ask { method: "POST", ..page("/logout") });
    assert!(seen.location().contains(&format!("id_token_hint={hint}&")));
}

#[test]
fn a_refresh_is_one_request_for_all_that_ask_at_once() {
    let (mut world, engine, browser) = logged_in(|_| {});
    world.pass(280);
    let mut checks: Vec<Check> = (0..2).map(|_| browser.begin(&world, &engine, &api("/"))).collect();
    world.run_to(&mut checks[0], is_at_token);
    let Step::Fetch(fetch) = checks[0].step() else { panic!("a fetch") };
    assert!(fetch.once && fetch.url.ends_with("/token"));
    for check in &mut checks {
        browser.clone().end(&mut world, check);
    }
    assert_eq!(asked(&mut world), 1);
}
