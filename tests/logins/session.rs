//! Sessions: what is kept, for whom, for how long, and what the upstream sees of them.

use std::sync::Arc;

use keybound::steps::{Endpoint, StoreOperation};
use keybound::{Engine, Reason, Step};
use serde_json::{Value, json};

use crate::common::{CLIENT_A, CLIENT_B, NOW, b64, mint, named_jwk, without};
use crate::world::{
    Ask, Browser, Change, HOST, OTHER_SECRET, SECRET, SESSION, STORAGES, Seen, World, api, counter, engine, in_store,
    page, program,
};

/// A browser that is logged in.
fn logged_in(change: impl FnOnce(&mut Value)) -> (World, Arc<Engine>, Browser) {
    let (mut world, engine, mut browser) = (World::new(), engine(change), Browser::new());
    // Nothing is refreshed here.
    world.server.refreshes = false;
    world.server.life = 1_000_000;
    browser.login(&mut world, &engine);
    world.fetched.clear();
    world.operations.clear();
    (world, engine, browser)
}

fn bearer(token: &str) -> Ask {
    Ask { authorization: Some(format!("Bearer {token}")), ..program("/data") }
}

/// A JWT of the client's own, bound to `CLIENT_A`.
fn own_token() -> String {
    mint("ES256", |_| {})
}

// --- The cookie

#[test]
fn rfc6265_4_1_a_the_cookie_is_of_this_host_alone_and_out_of_reach_of_scripts() {
    for (option, same_site) in [(None, "Lax"), (Some("Lax"), "Lax"), (Some("None"), "None")] {
        let engine = engine(|c| {
            if let Some(option) = option {
                c["session_cookie_same_site"] = option.into();
            }
        });
        let (mut world, mut browser) = (World::new(), Browser::new());
        let target = browser.start(&mut world, &engine, "/");
        let seen = browser.come_back(&mut world, &engine, &target);
        let [login, session] = seen.cookies()[..] else { panic!("two cookies") };
        assert!(login.starts_with("__Host-session_login_") && login.contains("Expires=Thu, 01 Jan 1970"), "{login}");
        assert!(session.starts_with("__Host-session=1."), "{session}");
        assert!(session.ends_with(&format!("; Path=/; Secure; HttpOnly; SameSite={same_site}")), "{session}");
    }
}

#[test]
fn the_cookie_of_a_strict_session_says_so_also_when_it_is_removed() {
    let engine = engine(|c| {
        c["auth_methods"] = json!(["session", "bearer"]);
        c["session_cookie_same_site"] = "Strict".into();
        for name in ["redirect_uri", "scopes"] {
            without(c, name);
        }
    });
    let (mut world, mut browser) = (World::new(), Browser::new());
    let seen = browser.ask(&mut world, &engine, bearer(&own_token()));
    assert!(seen.cookies()[0].ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"));
    let seen = browser.ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") });
    assert!(seen.cookies()[0].contains("; SameSite=Strict; Expires="), "{}", seen.cookies()[0]);
}

#[test]
fn the_cookie_has_the_name_of_the_option() {
    let engine = engine(|c| c["session_cookie_name"] = "s".into());
    let (mut world, mut browser) = (World::new(), Browser::new());
    let target = browser.start(&mut world, &engine, "/");
    assert!(browser.names().iter().all(|name| name.starts_with("s_login_")));
    assert_eq!(browser.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
    assert_eq!(browser.names(), ["s"]);
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
}

#[test]
fn every_change_of_the_cookie_and_every_cut_is_refused() {
    for storage in STORAGES {
        let (mut world, engine, mut browser) = logged_in(storage);
        let value = browser.cookie(SESSION).expect("there").to_owned();
        for at in 0..value.len() {
            let mut changed = value.clone().into_bytes();
            changed[at] = if changed[at] == b'B' { b'C' } else { b'B' };
            for changed in [std::str::from_utf8(&changed).expect("text"), &value[..at]] {
                let mut forger = browser.clone();
                forger.set(SESSION, changed);
                let seen = forger.ask(&mut world, &engine, api("/"));
                // Another id is one that the store does not know.
                let is_refused = matches!(seen.reason, Reason::SessionInvalid | Reason::SessionExpired);
                assert!(is_refused && seen.status == 401, "{at}: {:?}", seen.reason);
            }
        }
        assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
    }
}

#[test]
fn a_session_of_several_cookies_needs_each_in_its_place() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    world.server.id_token = |claims| claims["groups"] = "x".repeat(4500).into();
    browser.login(&mut world, &engine);
    assert_eq!(browser.names(), [SESSION, "__Host-session_2", "__Host-session_3"]);
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
    for lost in 0..3 {
        let mut other = browser.clone();
        other.jar.remove(lost);
        assert_eq!(other.call(&mut world, &engine), Reason::SessionInvalid);
    }
    let mut swapped = browser.clone();
    let (second, third) = (swapped.jar[1].1.clone(), swapped.jar[2].1.clone());
    (swapped.jar[1].1, swapped.jar[2].1) = (third, second);
    assert_eq!(swapped.call(&mut world, &engine), Reason::SessionInvalid);
    // One part of another session.
    let mut other = Browser::new();
    other.login(&mut world, &engine);
    let foreign = other.cookie("__Host-session_2").expect("there").to_owned();
    browser.set("__Host-session_2", &foreign);
    assert_eq!(browser.call(&mut world, &engine), Reason::SessionInvalid);
}

#[test]
fn a_second_cookie_of_the_same_name_is_refused_and_not_picked_from() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    let mut other = Browser::new();
    other.login(&mut world, &engine);
    let theirs = other.jar[0].clone();
    let mut tossed = browser.clone();
    tossed.jar.push(theirs.clone());
    assert_eq!(tossed.call(&mut world, &engine), Reason::SessionInvalid);
    // A login would not mend it.
    let seen = tossed.ask(&mut world, &engine, page("/"));
    assert_eq!((seen.reason, seen.status), (Reason::SessionInvalid, 401));
    tossed.jar.rotate_left(1);
    assert_eq!(tossed.call(&mut world, &engine), Reason::SessionInvalid);
    let own = browser.jar[0].clone();
    browser.jar.push(own);
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
}

#[test]
fn what_cannot_be_opened_is_left_where_it_is_and_what_is_over_is_removed() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    let mut other = browser.clone();
    other.set(SESSION, "1.AAAA");
    let seen = other.ask(&mut world, &engine, api("/"));
    assert_eq!((seen.reason, seen.cookies().len()), (Reason::SessionInvalid, 0));
    world.pass(900);
    let seen = browser.ask(&mut world, &engine, api("/"));
    assert_eq!((seen.reason, seen.status), (Reason::SessionExpired, 401));
    assert!(!browser.has_session());
}

#[test]
fn long_and_strange_cookies_are_refused_and_do_no_harm() {
    let (mut world, engine, _) = logged_in(|_| {});
    let (long, many) = ("A".repeat(100_000), "a=b; ".repeat(5000));
    for cookie in [
        "",
        ";",
        ";;;",
        "=",
        "\0",
        "__Host-session",
        "__Host-session=",
        "__Host-session=1.",
        "__Host-session=0.AAAA",
        "__Host-session=9.AAAA",
        "__Host-session=4.AAAA",
        "__Host-session=-1.AAAA",
        "__Host-session=1.\0",
        "__Host-session=\0",
        "__Host-session=1.AAAA\0BBBB",
        "__Host-session=1.====",
        "__Host-session_2=AAAA",
        "__Host-session_login_=x",
        &format!("__Host-session=1.{long}"),
        &many,
        &format!("{many}__Host-session=2.AAAA; __Host-session_2={long}"),
    ] {
        let mut browser = Browser::new();
        // As it is: the jar is one pair whose value is the rest.
        browser.jar = match cookie.split_once('=') {
            Some((name, value)) => vec![(name.to_owned(), value.to_owned())],
            None => vec![(cookie.to_owned(), String::new())],
        };
        let seen = browser.ask(&mut world, &engine, api("/"));
        assert!(matches!(seen.reason, Reason::NoToken | Reason::SessionInvalid), "{:?}", seen.reason);
        assert_eq!(seen.status, 401);
        // And a new login is what they lead to.
        let target = browser.start(&mut world, &engine, "/");
        let kept = browser.jar.iter().any(|(name, _)| name == SESSION);
        let seen = browser.come_back(&mut world, &engine, &target);
        assert!(seen.reason == Reason::LoginCompleted || kept, "{:?}", seen.reason);
    }
}

// --- Where a session is good

#[test]
fn a_session_is_good_at_its_host_its_audience_and_with_its_secret() {
    let elsewhere: [(Change, &str, bool); 8] = [
        (|_| {}, HOST, true),
        (|_| {}, "API.TEST:443", true),
        (|_| {}, "other.test", false),
        (|_| {}, "api.test:8443", false),
        (|c| c["session_secret"] = OTHER_SECRET.into(), HOST, false),
        (|c| c["session_audience"] = "other".into(), HOST, false),
        (|c| c["client_id"] = "other".into(), HOST, false),
        (|c| c["session_cookie_name"] = "__Host-session".into(), HOST, true),
    ];
    for storage in STORAGES {
        for (change, host, is_good) in elsewhere {
            let (mut world, _, mut browser) = logged_in(storage);
            let other = engine(|c| {
                storage(c);
                change(c);
            });
            let seen = browser.ask(&mut world, &other, Ask { host: host.into(), ..api("/") });
            // In the store it is under another name.
            let is_refused = matches!(seen.reason, Reason::SessionInvalid | Reason::SessionExpired);
            assert!(if is_good { seen.reason == Reason::Allowed } else { is_refused }, "{host} {:?}", seen.reason);
        }
    }
}

#[test]
fn instances_with_one_audience_and_secret_share_sessions() {
    for storage in STORAGES {
        let change = |client: &'static str| {
            move |c: &mut Value| {
                storage(c);
                c["client_id"] = client.into();
                c["session_audience"] = "shop".into();
            }
        };
        let (mut world, _, mut browser) = logged_in(|c| {
            storage(c);
            c["session_audience"] = "shop".into();
        });
        assert_eq!(browser.call(&mut world, &engine(change("other"))), Reason::Allowed);
        let stranger = engine(|c| {
            change("other")(c);
            c["session_audience"] = "shop2".into();
        });
        assert_ne!(browser.call(&mut world, &stranger), Reason::Allowed);
    }
}

#[test]
fn issuer_and_client_of_the_default_audience_do_not_run_into_each_other() {
    let with = |issuer: &'static str, client: &'static str| {
        engine(|c| {
            c["auth_methods"] = json!(["session", "bearer"]);
            for name in ["redirect_uri", "scopes"] {
                without(c, name);
            }
            c["issuer"] = issuer.into();
            c["client_id"] = client.into();
            c["jwks"] = crate::common::jwks();
            for name in ["token", "introspection", "revocation"] {
                c[format!("{name}_endpoint")] = "https://as.test/x".into();
            }
        })
    };
    let (mut world, a) = (World::new(), with("https://as.test", "a b"));
    let mut browser = Browser::new();
    let token = mint("ES256", |_| {});
    assert_eq!(browser.ask(&mut world, &a, bearer(&token)).reason, Reason::Allowed);
    assert_eq!(browser.call(&mut world, &a), Reason::Allowed);
    assert_eq!(browser.call(&mut world, &with("https://as.test a", "b")), Reason::SessionInvalid);
}

#[test]
fn a_secret_of_before_opens_until_it_is_removed_and_the_session_is_written_with_the_new_one() {
    for storage in STORAGES {
        let (mut world, _, mut browser) = logged_in(storage);
        let both = engine(|c| {
            storage(c);
            c["session_secret"] = OTHER_SECRET.into();
            c["session_previous_secrets"] = json!([SECRET]);
        });
        let alone = engine(|c| {
            storage(c);
            c["session_secret"] = OTHER_SECRET.into();
        });
        assert_eq!(browser.clone().call(&mut world, &alone), Reason::SessionInvalid);
        let seen = browser.ask(&mut world, &both, api("/"));
        assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, 1));
        assert_eq!(browser.call(&mut world, &alone), Reason::Allowed);
        let seen = browser.ask(&mut world, &both, api("/"));
        assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, 0));
    }
}

// --- The certificate

#[test]
fn a_session_that_is_bound_needs_its_certificate_on_each_request() {
    use Reason::{Allowed, SessionCertificateMismatch as Mismatch, SessionCertificateMissing as Missing};
    for storage in STORAGES {
        for mode in ["strict", "optional", "off"] {
            for (bind, [own, other, none]) in
                [(true, [Allowed, Mismatch, Missing]), (false, [Allowed, Allowed, Allowed])]
            {
                let (mut world, engine, mut browser) = logged_in(|c| {
                    storage(c);
                    c["session_bind_certificate"] = bind.into();
                    c["proof_of_possession_mtls"] = mode.into();
                    c["proof_of_possession_auth_methods_validation"] = false.into();
                });
                let before = browser.header();
                for (certificate, reason) in [(Some(CLIENT_B), other), (None, none), (Some(CLIENT_A), own)] {
                    let mut held = browser.stolen(certificate);
                    let seen = held.ask(&mut world, &engine, api("/"));
                    assert_eq!(seen.reason, reason, "{mode} {bind}");
                    if reason != Allowed {
                        // Who has another certificate by now can log in again; the owner's session goes on.
                        let kept = if certificate.is_none() { before.clone() } else { String::new() };
                        assert_eq!((seen.status, held.header()), (401, kept));
                        assert_eq!(seen.challenge.as_deref(), Some("Bearer error=\"invalid_token\""));
                        assert!(seen.reason.is_binding());
                    }
                }
                assert_eq!(browser.call(&mut world, &engine), Allowed);
            }
        }
    }
}

#[test]
fn a_page_tells_that_the_certificate_is_the_matter() {
    let (mut world, engine, browser) = logged_in(|_| {});
    for (certificate, title) in [(None, "Certificate required"), (Some(CLIENT_B), "Another certificate")] {
        let seen = browser.stolen(certificate).ask(&mut world, &engine, page("/"));
        // Not a new login: with the wrong certificate that would be the thief's.
        assert_eq!(seen.status, 401);
        assert!(seen.is_page() && seen.body.contains(title), "{}", seen.body);
    }
}

#[test]
fn a_session_from_before_the_option_is_not_taken_where_sessions_are_bound() {
    for (mode, reason) in
        [("strict", Reason::SessionInvalid), ("off", Reason::SessionInvalid), ("optional", Reason::Allowed)]
    {
        let with = |bind: bool| {
            move |c: &mut Value| {
                c["session_bind_certificate"] = bind.into();
                c["proof_of_possession_mtls"] = mode.into();
                c["proof_of_possession_auth_methods_validation"] = false.into();
            }
        };
        let (mut world, _, mut browser) = logged_in(with(false));
        assert_eq!(browser.call(&mut world, &engine(with(true))), reason, "{mode}");
        // A session that is bound stays so.
        let (mut world, _, browser) = logged_in(with(true));
        let seen = browser.stolen(None).ask(&mut world, &engine(with(false)), api("/"));
        assert_eq!(seen.reason, Reason::SessionCertificateMissing, "{mode}");
    }
}

#[test]
fn a_session_that_is_not_bound_is_logged_and_counted_where_proof_is_demanded() {
    const SAMPLE: &str = "keybound_binding_skipped_total{method=\"session\"}";
    for (mode, bind, is_told) in
        [("strict", false, true), ("optional", false, true), ("off", false, false), ("strict", true, false)]
    {
        let (mut world, engine, mut browser) = logged_in(|c| {
            c["session_bind_certificate"] = bind.into();
            c["proof_of_possession_mtls"] = mode.into();
            c["proof_of_possession_auth_methods_validation"] = false.into();
        });
        let seen = browser.ask(&mut world, &engine, api("/"));
        let note = if is_told { "proof of possession was not checked, method=session" } else { "" };
        assert_eq!((seen.reason, seen.detail.as_str()), (Reason::Allowed, note), "{mode} {bind}");
        assert_eq!(counter(&engine, SAMPLE), u64::from(is_told));
    }
}

#[test]
fn a_session_of_a_bearer_token_demands_the_tokens_certificate_again() {
    for bind in [true, false] {
        for storage in STORAGES {
            let engine = engine(|c| {
                storage(c);
                c["session_bind_certificate"] = bind.into();
                c["auth_methods"] = json!(["session", "bearer"]);
                for name in ["redirect_uri", "scopes"] {
                    without(c, name);
                }
            });
            let (mut world, mut browser) = (World::new(), Browser::new());
            let token = own_token();
            let seen = browser.ask(&mut world, &engine, bearer(&token));
            assert_eq!(seen.reason, Reason::Allowed);
            assert!(browser.has_session());
            let seen = browser.ask(&mut world, &engine, api("/"));
            assert_eq!((seen.reason, seen.bearer(), seen.detail.as_str()), (Reason::Allowed, token.as_str(), ""));
            for certificate in [None, Some(CLIENT_B)] {
                let mut thief = browser.stolen(certificate);
                let seen = thief.ask(&mut world, &engine, api("/"));
                assert!(seen.reason.is_binding() && seen.status == 401, "{:?}", seen.reason);
                // Who comes with another certificate loses the cookie. Nor is it ended for the owner.
                assert_eq!(thief.has_session(), certificate.is_none());
                thief.jar.clone_from(&browser.jar);
                let seen = thief.ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") });
                assert!(seen.reason.is_binding(), "{:?}", seen.reason);
                assert!(world.server.revoked.is_empty());
            }
            assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
            assert_eq!(
                browser.ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") }).reason,
                Reason::LoggedOut
            );
        }
    }
}

#[test]
fn a_session_of_an_introspected_token_demands_its_certificate_again() {
    for storage in STORAGES {
        let engine = engine(|c| {
            storage(c);
            c["session_bind_certificate"] = false.into();
            c["auth_methods"] = json!(["session", "bearer", "introspection"]);
            for name in ["redirect_uri", "scopes"] {
                without(c, name);
            }
        });
        let (mut world, mut browser) = (World::new(), Browser::new());
        // The server says that it is bound to `CLIENT_A`.
        world.server.secrets.push("opaque-token".into());
        assert_eq!(browser.ask(&mut world, &engine, bearer("opaque-token")).reason, Reason::Allowed);
        assert_eq!(browser.ask(&mut world, &engine, api("/")).bearer(), "opaque-token");
        for certificate in [None, Some(CLIENT_B)] {
            for ask in [api("/"), Ask { method: "POST", ..api("/logout") }] {
                let mut thief = browser.stolen(certificate);
                let seen = thief.ask(&mut world, &engine, ask);
                assert!(seen.reason.is_binding(), "{:?}", seen.reason);
            }
        }
        assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
        assert!(world.server.revoked.is_empty());
    }
}

#[test]
fn a_session_of_an_unbound_token_is_as_good_as_the_token() {
    let with = |mode: &'static str| {
        engine(|c| {
            c["session_bind_certificate"] = false.into();
            c["auth_methods"] = json!(["session", "bearer"]);
            c["proof_of_possession_mtls"] = mode.into();
            for name in ["redirect_uri", "scopes"] {
                without(c, name);
            }
        })
    };
    let (mut world, mut browser) = (World::new(), Browser::with(None));
    let unbound = mint("ES256", |c| without(c, "cnf"));
    assert_eq!(browser.ask(&mut world, &with("optional"), bearer(&unbound)).reason, Reason::Allowed);
    let seen = browser.ask(&mut world, &with("optional"), api("/"));
    assert_eq!((seen.reason, seen.detail.as_str()), (Reason::Allowed, ""));
    // It has not proved possession: nobody ends it who may be a thief.
    assert_eq!(browser.call(&mut world, &with("strict")), Reason::TokenUnbound);
    assert!(browser.has_session());
}

#[test]
fn a_bearer_token_with_the_wrong_certificate_begins_no_session() {
    let (mut world, engine) = (World::new(), engine(|_| {}));
    for (certificate, reason) in [
        (None, Reason::CertificateMissing),
        (Some(CLIENT_B), Reason::CertificateMismatch),
        (Some(CLIENT_A), Reason::Allowed),
    ] {
        let mut browser = Browser::with(certificate);
        assert_eq!(browser.ask(&mut world, &engine, bearer(&own_token())).reason, reason);
        assert_eq!(browser.has_session(), reason == Reason::Allowed);
    }
}

#[test]
fn a_thief_neither_refreshes_nor_ends_nor_logs_out() {
    for storage in STORAGES {
        for certificate in [None, Some(CLIENT_B)] {
            let (mut world, engine, mut browser) = (World::new(), engine(storage), Browser::new());
            browser.login(&mut world, &engine);
            // It is time to refresh.
            world.pass(280);
            world.fetched.clear();
            let entries = world.entries();
            for ask in [
                api("/"),
                page("/"),
                Ask { method: "POST", ..api("/logout") },
                Ask { method: "DELETE", ..program("/x/logout") },
                bearer(&own_token()),
            ] {
                let mut thief = browser.stolen(certificate);
                let seen = thief.ask(&mut world, &engine, ask);
                assert!(seen.reason.is_binding() && seen.status == 401, "{:?}", seen.reason);
                assert_eq!(seen.cookies().is_empty(), certificate.is_none());
            }
            assert!(world.is_quiet() && world.server.revoked.is_empty());
            assert_eq!(world.entries(), entries);
            assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
            assert_eq!(world.sent(Endpoint::Token).len(), 1);
        }
    }
}

// --- Whose session, and of which method

#[test]
fn a_session_of_a_method_that_was_removed_is_not_taken() {
    let (mut world, _, mut browser) = logged_in(|_| {});
    let without_code = engine(|c| {
        c["auth_methods"] = json!(["session", "bearer"]);
        for name in ["redirect_uri", "scopes"] {
            without(c, name);
        }
    });
    let seen = browser.ask(&mut world, &without_code, api("/"));
    assert_eq!(seen.reason, Reason::SessionInvalid);
    assert_eq!(seen.detail, "it was begun by authorization_code, which is not in auth_methods");
    let without_bearer = engine(|c| c["auth_methods"] = json!(["session", "authorization_code"]));
    assert_eq!(browser.call(&mut world, &without_bearer), Reason::Allowed);
    let with_bearer = engine(|_| {});
    let mut other = Browser::new();
    other.ask(&mut world, &with_bearer, bearer(&own_token()));
    assert_eq!(other.call(&mut world, &with_bearer), Reason::Allowed);
    assert_eq!(other.call(&mut world, &without_bearer), Reason::SessionInvalid);
}

#[test]
fn a_method_of_disable_session_begins_none() {
    let engine = engine(|c| c["disable_session"] = json!(["bearer"]));
    let (mut world, mut browser) = (World::new(), Browser::new());
    assert_eq!(browser.ask(&mut world, &engine, bearer(&own_token())).reason, Reason::Allowed);
    assert!(!browser.has_session());
    browser.login(&mut world, &engine);
}

#[test]
fn a_planted_cookie_is_never_taken_over_by_a_login() {
    for storage in STORAGES {
        let (mut world, engine, mut attacker) = logged_in(|c| {
            storage(c);
            c["session_bind_certificate"] = false.into();
            c["proof_of_possession_mtls"] = "off".into();
        });
        world.pass(900);
        // A session of the attacker's that is over, ids that were never given out.
        for planted in [attacker.cookie(SESSION).expect("there").to_owned(), format!("1.{}", b64(&[7; 32]))] {
            let mut victim = Browser::new();
            victim.set(SESSION, &planted);
            let target = victim.start(&mut world, &engine, "/");
            victim.set(SESSION, &planted);
            assert_eq!(victim.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
            assert_ne!(victim.cookie(SESSION), Some(planted.as_str()));
            assert_eq!(victim.call(&mut world, &engine), Reason::Allowed);
            attacker.set(SESSION, &planted);
            assert_ne!(attacker.call(&mut world, &engine), Reason::Allowed);
        }
    }
}

#[test]
fn each_login_has_an_id_of_its_own_and_ends_the_session_before_it() {
    let (mut world, engine, mut browser) = logged_in(in_store);
    let first = browser.cookie(SESSION).expect("there").to_owned();
    let mut again = Browser::new();
    again.login(&mut world, &engine);
    assert_ne!(again.cookie(SESSION), Some(first.as_str()));
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
    // A login in a browser that has a session still.
    let mut fresh = Browser::new();
    let target = fresh.start(&mut world, &engine, "/");
    fresh.set(SESSION, &first);
    assert_eq!(fresh.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
    assert_ne!(fresh.cookie(SESSION), Some(first.as_str()));
    assert_eq!(browser.call(&mut world, &engine), Reason::SessionExpired);
    assert_eq!(again.call(&mut world, &engine), Reason::Allowed);
}

#[test]
fn a_login_does_not_end_the_session_of_somebody_else() {
    let (mut world, engine, mut victim) = logged_in(in_store);
    let mut thief = Browser::with(Some(CLIENT_B));
    let target = thief.start(&mut world, &engine, "/");
    thief.set(SESSION, victim.cookie(SESSION).expect("there"));
    assert_eq!(thief.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
    assert_eq!(thief.call(&mut world, &engine), Reason::Allowed);
    assert_eq!(victim.call(&mut world, &engine), Reason::Allowed);
}

// --- Time

#[test]
fn a_session_that_is_not_used_ends() {
    for storage in STORAGES {
        for (wait, reason) in [(899, Reason::Allowed), (900, Reason::SessionExpired)] {
            let (mut world, engine, mut browser) = logged_in(storage);
            world.pass(wait);
            assert_eq!(browser.call(&mut world, &engine), reason, "{wait}");
        }
    }
}

#[test]
fn a_session_is_written_when_it_was_used_a_minute_ago_and_so_goes_on() {
    for (storage, stores) in [(STORAGES[0], 0), (STORAGES[1], 1)] {
        let (mut world, engine, mut browser) = logged_in(storage);
        for (wait, is_written) in [(59, false), (1, true), (59, false), (1, true)] {
            world.pass(wait);
            world.operations.clear();
            let seen = browser.ask(&mut world, &engine, api("/"));
            assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, usize::from(is_written)));
            let writes = world.operations.iter().filter(|store| store.operation == StoreOperation::Put).count();
            assert_eq!(writes, stores * usize::from(is_written));
        }
        for _ in 0..10 {
            world.pass(800);
            assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
        }
    }
}

#[test]
fn a_session_is_renewed_in_the_last_quarter_of_the_rolling_timeout_and_over_after_it() {
    let rolling = |c: &mut Value| {
        c["session_rolling_timeout"] = 1000.into();
        c["session_idling_timeout"] = 0.into();
    };
    for (waits, last) in [
        (vec![749, 250], Reason::SessionExpired),
        (vec![750, 999], Reason::Allowed),
        (vec![749, 1, 999], Reason::Allowed),
        (vec![750, 1000], Reason::SessionExpired),
        (vec![999], Reason::Allowed),
        (vec![1000], Reason::SessionExpired),
    ] {
        let (mut world, engine, mut browser) = logged_in(rolling);
        let mut reason = None;
        for wait in &waits {
            world.pass(*wait);
            // What was not written is a request of a browser that lost the answer.
            reason = Some(browser.call(&mut world, &engine));
        }
        // 749 + 250 = 999: renewed only by the last one.
        let expected = if waits == [749, 250] { Reason::Allowed } else { last };
        assert_eq!(reason, Some(expected), "{waits:?}");
    }
}

#[test]
fn the_absolute_timeout_ends_what_is_used_all_the_time() {
    for storage in STORAGES {
        let (mut world, engine, mut browser) = logged_in(|c| {
            storage(c);
            c["session_absolute_timeout"] = 2000.into();
        });
        for _ in 0..3 {
            world.pass(600);
            assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
        }
        world.pass(199);
        assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
        world.pass(1);
        let seen = browser.ask(&mut world, &engine, api("/"));
        assert_eq!(seen.reason, Reason::SessionExpired);
    }
}

#[test]
fn timeouts_of_zero_are_none() {
    let (mut world, engine, mut browser) = logged_in(|c| {
        for name in ["rolling", "idling", "absolute"] {
            c[format!("session_{name}_timeout")] = 0.into();
        }
    });
    world.pass(999_999);
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
}

#[test]
fn a_session_is_over_with_its_access_token_where_nothing_is_refreshed() {
    for storage in STORAGES {
        for (wait, reason) in [(299, Reason::Allowed), (300, Reason::SessionExpired)] {
            let (mut world, engine, mut browser) = (World::new(), engine(storage), Browser::new());
            world.server.refreshes = false;
            browser.login(&mut world, &engine);
            world.pass(wait);
            let seen = browser.ask(&mut world, &engine, api("/"));
            assert_eq!(seen.reason, reason);
            assert_eq!(browser.has_session(), reason == Reason::Allowed);
            // A browser logs in again.
            if reason != Reason::Allowed {
                assert_eq!(browser.ask(&mut world, &engine, page("/")).reason, Reason::LoginStarted);
            }
        }
    }
}

#[test]
fn the_shorter_of_what_the_token_and_its_answer_say_is_the_end() {
    let changes: [fn(&mut World); 2] = [
        |world| world.server.answer = |answer| answer["expires_in"] = 100.into(),
        |world| world.server.access_token = |claims| claims["exp"] = (NOW + 100).into(),
    ];
    for change in changes {
        for (wait, reason) in [(99, Reason::Allowed), (100, Reason::SessionExpired)] {
            let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
            world.server.refreshes = false;
            change(&mut world);
            browser.login(&mut world, &engine);
            world.pass(wait);
            assert_eq!(browser.call(&mut world, &engine), reason);
        }
        // And it is refreshed before that.
        let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
        change(&mut world);
        browser.login(&mut world, &engine);
        world.sent(Endpoint::Token);
        for (wait, requests) in [(69, 0), (1, 1)] {
            world.pass(wait);
            assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
            assert_eq!(world.sent(Endpoint::Token).len(), requests);
        }
    }
}

#[test]
fn a_session_whose_token_breaks_a_rule_here_goes_on_elsewhere_and_is_not_sent_to_and_fro() {
    for (change, reason) in [
        ((|c| c["audience_required"] = json!(["https://new.test"])) as Change, Reason::AudienceMismatch),
        (|c| c["scopes_required"] = json!(["write"]), Reason::InsufficientScope),
        (|c| c["scopes_required"] = json!(["read"]), Reason::Allowed),
    ] {
        let (mut world, _, mut browser) = logged_in(|_| {});
        let engine = engine(change);
        let seen = browser.ask(&mut world, &engine, api("/"));
        assert_eq!((seen.reason, browser.has_session()), (reason, true));
        assert_eq!(browser.ask(&mut world, &engine, page("/")).reason, reason);
    }
}

// --- In the store

#[test]
fn in_the_store_the_cookie_is_an_opaque_id_and_what_is_stored_is_sealed() {
    let (mut world, engine, mut browser) = (World::new(), engine(in_store), Browser::new());
    browser.login(&mut world, &engine);
    let value = browser.cookie(SESSION).expect("there").to_owned();
    assert_eq!(value.len(), 2 + 43);
    // World looks for tokens in what is written; the id must not be there either.
    let id = base64_of(&value[2..]);
    assert!(world.operations.len() > 2);
    for store in &world.operations {
        assert!(store.key != *id && !store.value.windows(32).any(|w| w == id));
        for name in ["access_token", "alice", "authorization_code"] {
            assert!(!store.value.windows(name.len()).any(|w| w == name.as_bytes()));
        }
    }
    // As long as the session may last.
    let put = world.operations.iter().rev().find(|store| store.operation == StoreOperation::Put).expect("written");
    assert_eq!(put.ttl, 900);
    world.operations.clear();
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
    let done: Vec<StoreOperation> = world.operations.iter().map(|store| store.operation).collect();
    assert_eq!(done, [StoreOperation::Get]);
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

#[test]
fn a_logout_ends_every_copy_of_the_cookie_in_the_store_at_once_and_else_within_a_minute_of_use() {
    for (storage, at_once) in [(STORAGES[1], Reason::SessionExpired), (STORAGES[0], Reason::Allowed)] {
        let (mut world, engine, mut browser) = logged_in(storage);
        let mut copy = browser.clone();
        let seen = browser.ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") });
        assert_eq!(seen.reason, Reason::LoggedOut);
        assert_eq!(copy.call(&mut world, &engine), at_once);
        for wait in [60, 700] {
            world.pass(wait);
            assert_eq!(copy.clone().call(&mut world, &engine), Reason::SessionExpired);
        }
    }
}

#[test]
fn a_logout_ends_copies_that_were_used_later_than_the_cookie_that_logs_out() {
    let (mut world, engine, mut browser) = logged_in(|c| {
        c["session_bind_certificate"] = false.into();
        c["proof_of_possession_mtls"] = "off".into();
    });
    let mut thief = browser.stolen(None);
    // The owner is away for longer than a session lasts that is not used; the thief is not.
    for _ in 0..6 {
        world.pass(600);
        assert_eq!(thief.call(&mut world, &engine), Reason::Allowed);
    }
    let seen = browser.ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") });
    assert_eq!(seen.reason, Reason::LoggedOut);
    world.pass(60);
    assert_eq!(thief.call(&mut world, &engine), Reason::SessionExpired);
}

#[test]
fn an_entry_of_the_store_under_the_name_of_another_session_is_refused() {
    let (mut world, engine, mut one) = logged_in(in_store);
    let mut other = Browser::new();
    other.login(&mut world, &engine);
    // Sessions are the entries that are neither logins ("used") nor documents, which are longer.
    world.swap_entries(|value| (600..2000).contains(&value.len()));
    assert_eq!(one.call(&mut world, &engine), Reason::SessionInvalid);
    assert_eq!(other.call(&mut world, &engine), Reason::SessionInvalid);
    world.swap_entries(|value| (600..2000).contains(&value.len()));
    assert_eq!(one.call(&mut world, &engine), Reason::Allowed);
}

#[test]
fn without_the_store_its_sessions_are_503_and_stay() {
    let (mut world, engine, mut browser) = logged_in(in_store);
    world.break_store();
    for ask in [api("/"), page("/"), Ask { method: "POST", ..page("/logout") }, bearer(&own_token())] {
        let is_page = ask.mode == "navigate";
        let seen = browser.ask(&mut world, &engine, ask);
        assert_eq!((seen.reason, seen.status, seen.retry_after), (Reason::StoreUnavailable, 503, Some(5)));
        assert_eq!(seen.is_page(), is_page);
        assert!(browser.has_session());
    }
    world.heal();
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
    // Sessions in cookies go on without it.
    let (mut world, engine, mut browser) = logged_in(|_| {});
    world.break_store();
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
}

#[test]
fn a_session_that_the_store_lost_is_over() {
    let (mut world, engine, mut browser) = logged_in(in_store);
    world.pass(901);
    let seen = browser.ask(&mut world, &engine, api("/"));
    assert_eq!((seen.reason, seen.status), (Reason::SessionExpired, 401));
    // It may be another's of the same name.
    assert!(browser.has_session());
    browser.jar.clear();
    browser.login(&mut world, &engine);
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
}

// --- What the upstream sees

#[test]
fn the_upstream_gets_the_sessions_token_whatever_the_client_sent() {
    for (hide, others) in [(false, None), (true, None), (false, Some("Bearer x.y.z")), (true, Some("Basic YTpi"))] {
        let (mut world, engine, mut browser) = logged_in(|c| c["hide_credentials"] = hide.into());
        let seen = browser.ask(&mut world, &engine, Ask { authorization: others.map(str::to_owned), ..api("/") });
        assert_eq!(seen.reason, Reason::Allowed);
        let token = seen.upstream("authorization").expect("changed");
        match token {
            None => assert!(hide),
            Some(value) => {
                assert!(!hide);
                let token = value.strip_prefix("Bearer ").expect("Bearer");
                assert!(world.server.secrets.iter().any(|secret| secret == token));
            }
        }
    }
}

#[test]
fn our_cookies_and_no_others_are_kept_from_the_upstream() {
    let (mut world, engine, browser) = logged_in(|_| {});
    let session = browser.cookie(SESSION).expect("there");
    for (cookie, rest) in [
        ("{}", Some(None)),
        ("a=b; {}", Some(Some("a=b"))),
        ("{}; a=b", Some(Some("a=b"))),
        ("a=b;{};c=\"d e\"; f", Some(Some("a=b;c=\"d e\"; f"))),
        ("{}; __Host-session_login_AAAAAAAAAAAAAAAA=x; __Host-session_login_=y; a=b", Some(Some("a=b"))),
        (
            "{}; __Host-session_2x=1; __Host-session_5=1; xx__Host-session=2; __host-session=3",
            Some(Some("__Host-session_2x=1; __Host-session_5=1; xx__Host-session=2; __host-session=3")),
        ),
    ] {
        let header = cookie.replace("{}", &format!("{SESSION}={session}"));
        let (name, value) = header.split_once('=').expect("a pair");
        let mut jar = Browser::new();
        jar.jar = vec![(name.to_owned(), value.to_owned())];
        let seen = jar.ask(&mut world, &engine, api("/"));
        assert_eq!(seen.reason, Reason::Allowed, "{cookie}");
        assert_eq!(seen.upstream("cookie"), rest, "{cookie}");
    }
    // Nothing of ours: it goes on as it came.
    let mut other = Browser::new();
    other.jar = vec![("a".into(), "b; c=d".into())];
    let engine = self::engine(|c| c["disable_session"] = json!(["bearer"]));
    let seen = other.ask(&mut world, &engine, bearer(&own_token()));
    assert_eq!((seen.reason, seen.upstream("cookie")), (Reason::Allowed, None));
    // A dead one of ours is not for the upstream either.
    other.set(SESSION, "1.AAAA");
    let seen = other.ask(&mut world, &engine, bearer(&own_token()));
    assert_eq!((seen.reason, seen.upstream("cookie")), (Reason::Allowed, Some(Some("a=b; c=d"))));
}

#[test]
fn headers_of_claims_come_from_the_sessions_token() {
    let (mut world, engine, mut browser) = logged_in(|c| {
        c["upstream_headers_claims"] = json!(["sub", "email"]);
        c["upstream_headers_names"] = json!(["X-User", "X-Email"]);
        c["downstream_headers_claims"] = json!(["sub"]);
        c["downstream_headers_names"] = json!(["X-Me"]);
    });
    let seen = browser.ask(&mut world, &engine, api("/"));
    assert_eq!(seen.upstream("X-User"), Some(Some("alice")));
    assert_eq!(seen.upstream("X-Email"), Some(None));
    assert_eq!(seen.header("X-Me"), Some("alice"));
}

#[test]
fn a_bearer_token_of_its_own_is_what_counts_where_the_session_is_over() {
    let (mut world, engine, mut browser) = logged_in(|_| {});
    let alice = browser.ask(&mut world, &engine, bearer(&own_token()));
    assert_ne!(alice.bearer(), own_token());
    world.pass(900 - 310);
    world.pass(310);
    let token = mint("ES256", |c| (c["iat"], c["exp"]) = ((NOW + 890).into(), (NOW + 2000).into()));
    let seen = browser.ask(&mut world, &engine, bearer(&token));
    assert_eq!(seen.bearer(), token);
    // And it begins a session in place of the other.
    let seen: Seen = browser.ask(&mut world, &engine, api("/"));
    assert_eq!(seen.bearer(), token);
}

#[test]
fn credentials_that_are_no_token_are_refused_as_without_sessions() {
    let with = engine(|_| {});
    let without_sessions = {
        let mut options = crate::world::options();
        let members = options.as_object_mut().expect("object");
        members.retain(|name, _| !name.starts_with("session") && !name.starts_with("logout"));
        for name in ["redirect_uri", "scopes"] {
            members.remove(name);
        }
        members.insert("auth_methods".into(), json!(["bearer"]));
        Arc::new(Engine::new(options.to_string().as_bytes()).expect("accepted"))
    };
    let own = own_token();
    for authorization in [
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Bearer a,b",
        "Bearer \"a\"",
        "Bearer a b",
        "Bearer =",
        "Bearer a=b",
        "Bearer\ta",
        "Bearer \u{e4}",
        "Basic YTpi",
        "Negotiate x",
        "",
        "bearer a.b.c",
        &format!("Bearer {own}"),
        &format!("BEARER   {own}"),
        &format!("Bearer {own} "),
        &format!("Bearer {own}="),
        &format!("Bearer {own}\0"),
    ] {
        let ask = Ask { authorization: Some(authorization.to_owned()), ..program("/") };
        let (mut one, mut other) = (World::new(), World::new());
        let expected = Browser::new().ask(&mut one, &without_sessions, ask.clone()).reason;
        assert_eq!(Browser::new().ask(&mut other, &with, ask).reason, expected, "{authorization:?}");
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_refused_with_every_session() {
    let (mut world, engine, browser) = logged_in(|_| {});
    let large: &'static [u8] = Box::leak(vec![0x30; 20 * 1024].into_boxed_slice());
    let seen = browser.stolen(Some(large)).ask(&mut world, &engine, api("/"));
    assert_eq!((seen.reason, seen.status), (Reason::CertificateMalformed, 401));
    let seen = browser.stolen(Some(large)).ask(&mut world, &engine, Ask { method: "POST", ..api("/logout") });
    assert_eq!(seen.reason, Reason::CertificateMalformed);
}

#[test]
fn a_jwt_that_the_gateway_holds_is_still_introspected_when_a_client_sends_it() {
    let methods = |c: &mut Value| {
        c["auth_methods"] = json!(["session", "introspection", "authorization_code"]);
        c["proof_of_possession_mtls"] = "off".into();
    };
    let (mut world, engine, mut browser) = logged_in(methods);
    let seen = browser.ask(&mut world, &engine, api("/"));
    assert_eq!(seen.reason, Reason::Allowed);
    assert!(world.sent(Endpoint::Introspection).is_empty());
    // Remembered for the session, and not for who stole it from an upstream.
    let token = seen.bearer().to_owned();
    assert_eq!(Browser::new().ask(&mut world, &engine, bearer(&token)).reason, Reason::TokenInactive);
    assert_eq!(browser.call(&mut world, &engine), Reason::Allowed);
}

#[test]
fn the_token_of_a_login_is_of_the_first_issuer() {
    let other = "https://other.test";
    for (iss, reason) in [(None, Reason::LoginCompleted), (Some(other), Reason::IssuerMismatch)] {
        let engine = engine(|c| {
            c["auth_methods"] = json!(["session", "bearer", "authorization_code"]);
            c["issuers_allowed"] =
                json!([{"issuer": other, "jwks": {"keys": [named_jwk("ES256"), named_jwk("EdDSA")]}}]);
        });
        let (mut world, mut browser) = (World::new(), Browser::new());
        if iss.is_some() {
            world.server.access_token = |claims| claims["iss"] = "https://other.test".into();
        }
        let target = browser.start(&mut world, &engine, "/");
        assert_eq!(browser.come_back(&mut world, &engine, &target).reason, reason);
        assert_eq!(browser.has_session(), iss.is_none());
    }
}

#[test]
fn a_request_under_way_does_not_bring_back_a_session_that_was_logged_out() {
    // It has read the session, and is about to look whether it was ended; or to write it.
    for next in [StoreOperation::Get, StoreOperation::Put] {
        let (mut world, engine, mut browser) = logged_in(in_store);
        let copy = browser.clone();
        world.pass(100);
        let mut slow = browser.begin(&world, &engine, &api("/"));
        assert!(world.step(&mut slow));
        world.run_to(&mut slow, |step| matches!(step, Step::Store(store) if store.operation == next));
        let logout = Ask { method: "POST", ..api("/logout") };
        assert_eq!(browser.ask(&mut world, &engine, logout).reason, Reason::LoggedOut);
        world.finish(&mut slow);
        assert_eq!(copy.clone().call(&mut world, &engine), Reason::SessionExpired);
    }
}
