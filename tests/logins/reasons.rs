//! Each reason of logins, sessions and grants is one that a request can have, and its answer is what the table says.

use keybound::steps::{Endpoint, StoreOperation};
use keybound::{Answer, Reason};
use serde_json::json;

use crate::common::{CLIENT_B, without};
use crate::world::{Ask, Browser, Fault, SESSION, Seen, World, api, engine, page, program};

fn password(c: &mut serde_json::Value) {
    for name in ["redirect_uri", "session_bind_certificate"] {
        without(c, name);
    }
    c["auth_methods"] = json!(["session", "password"]);
    c["proof_of_possession_mtls"] = "off".into();
}

/// A request that is answered for this reason.
fn provoke(reason: Reason) -> Seen {
    let (mut world, mut browser) = (World::new(), Browser::new());
    let plain = engine(|_| {});
    let (w, e) = (&mut world, &plain);
    let basic = |pair: &str| Ask { authorization: Some(format!("Basic {pair}")), ..program("/") };
    match reason {
        Reason::LoginStarted => browser.ask(w, e, page("/")),
        Reason::LoginCompleted => {
            let target = browser.start(w, e, "/");
            browser.come_back(w, e, &target)
        }
        Reason::LoggedOut => {
            browser.login(w, e);
            browser.ask(w, e, Ask { method: "POST", site: "same-origin", ..page("/logout") })
        }
        Reason::LoginStateMissing => {
            let target = browser.start(w, e, "/");
            Browser::new().come_back(w, e, &target)
        }
        Reason::LoginStateInvalid => {
            let target = browser.start(w, e, "/");
            w.pass(600);
            browser.come_back(w, e, &target)
        }
        Reason::LoginStateReused => {
            let target = browser.start(w, e, "/");
            browser.clone().come_back(w, e, &target);
            browser.come_back(w, e, &target)
        }
        Reason::LoginIssuerMismatch => {
            let target = browser.start(w, e, "/").replace("as.test", "evil.test");
            browser.come_back(w, e, &target)
        }
        Reason::LoginResponseMalformed => browser.ask(w, e, page("/callback")),
        Reason::LoginRefused => {
            let target = browser.start(w, e, "/").replace("code=", "error=access_denied&x=");
            browser.come_back(w, e, &target)
        }
        Reason::CodeRefused => {
            let target = browser.start(w, e, "/");
            w.fault(Endpoint::Token, Fault::Answers(400, json!({"error": "invalid_grant"})));
            browser.come_back(w, e, &target)
        }
        Reason::IdTokenInvalid => {
            let target = browser.start(w, e, "/");
            w.server.id_token = |claims| claims["nonce"] = "x".into();
            browser.come_back(w, e, &target)
        }
        Reason::SessionInvalid => {
            browser.set(SESSION, "1.AAAA");
            browser.ask(w, e, api("/"))
        }
        Reason::SessionExpired => {
            browser.login(w, e);
            w.pass(900);
            browser.ask(w, e, api("/"))
        }
        Reason::SessionRefused => {
            browser.login(w, e);
            w.pass(280);
            w.fault(Endpoint::Token, Fault::Answers(400, json!({"error": "invalid_grant"})));
            browser.ask(w, e, api("/"))
        }
        Reason::CredentialsRefused => browser.ask(w, &engine(password), basic("YTpi")),
        Reason::CredentialsMalformed => browser.ask(w, &engine(password), basic("!")),
        Reason::LogoutCrossSite => browser.ask(w, e, Ask { method: "POST", site: "cross-site", ..page("/logout") }),
        Reason::SessionCertificateMissing => {
            browser.login(w, e);
            browser.stolen(None).ask(w, e, api("/"))
        }
        Reason::SessionCertificateMismatch => {
            browser.login(w, e);
            browser.stolen(Some(CLIENT_B)).ask(w, e, api("/"))
        }
        Reason::StoreUnavailable => {
            let target = browser.start(w, e, "/");
            w.store_fails = |store| store.operation == StoreOperation::Add;
            browser.come_back(w, e, &target)
        }
        other => panic!("nothing is known to provoke {}", other.code()),
    }
}

#[test]
fn each_reason_can_be_had_and_is_answered_as_the_table_says() {
    let is_ours = |reason: &&Reason| matches!(**reason as u32, 70..=71 | 95 | 100..=125);
    let all: Vec<Reason> = Reason::ALL.iter().filter(is_ours).copied().collect();
    assert_eq!(all.len(), 20);
    for reason in all {
        let seen = provoke(reason);
        assert_eq!((seen.reason, seen.status), (reason, reason.answer().status()), "{}", seen.detail);
        assert_eq!(seen.challenge.is_some(), reason.answer().challenges(), "{}", reason.code());
        assert_eq!(seen.retry_after, (reason.answer() == Answer::Unavailable).then_some(5));
        // Nobody is told the reason who is not meant to be.
        assert!(!seen.body.contains(reason.code()));
    }
}
