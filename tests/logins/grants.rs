//! Tokens that the gateway fetches for credentials of the request, and its own for the upstream.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keybound::steps::{Endpoint, Outcome};
use keybound::{Engine, Reason};
use serde_json::{Value, json};

use crate::common::{CLIENT_A, CLIENT_B, NOW, mint, without};
use crate::world::{
    Ask, Browser, Change, Fault, SESSION, Seen, World, api, counter, engine as engine_of, get, page, program,
};

/// A gateway with these methods and no sessions.
fn engine(methods: &[&str], change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine_of(|c| {
        c.as_object_mut()
            .expect("object")
            .retain(|name, _| !name.starts_with("session") && !name.starts_with("logout"));
        without(c, "redirect_uri");
        c["auth_methods"] = json!(methods);
        c["proof_of_possession_auth_methods_validation"] = false.into();
        c["scopes"] = json!(["openid", "offline_access", "read"]);
        change(c);
    })
}

/// Likewise with sessions.
fn engine_with_sessions(methods: &[&str], change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine_of(|c| {
        without(c, "redirect_uri");
        c["auth_methods"] = json!(methods);
        c["session_bind_certificate"] = false.into();
        c["proof_of_possession_auth_methods_validation"] = false.into();
        change(c);
    })
}

fn basic(pair: &str) -> Ask {
    Ask { authorization: Some(format!("Basic {}", STANDARD.encode(pair))), ..program("/data") }
}

fn form(form: &str) -> Ask {
    Ask { method: "POST", form: form.to_owned(), ..program("/data") }
}

fn refresh(token: &str) -> Ask {
    Ask { refresh_token: token.to_owned(), ..program("/data") }
}

/// A request of a program without cookies.
fn ask(world: &mut World, engine: &Arc<Engine>, ask: Ask) -> Seen {
    Browser::new().ask(world, engine, ask)
}

const ALICE: &str = "alice:alice-password";
const ROBOT: &str = "robot:robot-secret";

fn names(form: &[(String, String)]) -> Vec<&str> {
    form.iter().map(|(name, _)| name.as_str()).collect()
}

// --- Password

#[test]
fn rfc6749_4_3_2_a_a_password_is_exchanged_for_a_token_that_the_upstream_gets() {
    let engine = engine(&["password"], |c| {
        c["token_post_args_names"] = json!(["audience"]);
        c["token_post_args_values"] = json!(["https://api.test"]);
    });
    let mut world = World::new();
    let seen = ask(&mut world, &engine, basic(ALICE));
    let token = seen.bearer().to_owned();
    assert!(world.server.secrets.contains(&token));
    assert_eq!(seen.claims["sub"], "alice");
    let [sent] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
    assert_eq!(names(sent), ["grant_type", "username", "password", "scope", "audience", "client_id"]);
    assert_eq!(get(sent, "username"), Some("alice"));
    assert_eq!(get(sent, "scope"), Some("openid offline_access read"));
    assert_eq!(get(sent, "client_id"), Some("gateway"));
}

#[test]
fn rfc7617_2_a_credentials_come_in_one_way_or_are_malformed() {
    use Reason::{Allowed, CredentialsMalformed, CredentialsRefused, MalformedAuthorization, NoToken, TokenNotJwt};
    let engine = engine(&["bearer", "password"], |_| {});
    let long = format!("Basic {}", STANDARD.encode(format!("alice:{}", "x".repeat(4096))));
    let of = |text: &str| format!("Basic {}", STANDARD.encode(text));
    for (authorization, reason) in [
        (of(ALICE), Allowed),
        (of(ALICE).replace("Basic", "basic"), Allowed),
        (of(ALICE).replace("Basic", "BASIC  "), Allowed),
        (of("alice"), CredentialsMalformed),
        (of("alice:a\0b"), CredentialsMalformed),
        (of("alice:a\nb"), CredentialsMalformed),
        (format!("Basic {}", STANDARD.encode(b"alice:\xff")), CredentialsMalformed),
        ("Basic ".to_owned(), CredentialsMalformed),
        ("Basic !".to_owned(), CredentialsMalformed),
        ("Basic YWxpY2U6YQ".to_owned(), CredentialsMalformed),
        (long, CredentialsMalformed),
        (of(":"), CredentialsRefused),
        (of("alice:"), CredentialsRefused),
        (of("alice:wrong:word"), CredentialsRefused),
        ("Basic".to_owned(), NoToken),
        ("Digest abc".to_owned(), NoToken),
        ("Bearer a,b".to_owned(), MalformedAuthorization),
        ("Bearer abc".to_owned(), TokenNotJwt),
    ] {
        let mut world = World::new();
        let seen = ask(&mut world, &engine, Ask { authorization: Some(authorization.clone()), ..program("/") });
        assert_eq!(seen.reason, reason, "{authorization}");
        assert_eq!(seen.status, reason.answer().status());
        if reason == CredentialsMalformed {
            assert!(world.is_quiet() && seen.challenge.is_none());
        }
    }
    // Not configured: nobody asks for a password.
    let bearer = self::engine(&["bearer", "client_credentials"], |c| {
        c["client_credentials_param_type"] = json!(["body"]);
    });
    let mut world = World::new();
    assert_eq!(ask(&mut world, &bearer, basic(ALICE)).reason, NoToken);
    assert!(world.is_quiet());
}

#[test]
fn credentials_are_taken_from_the_configured_places_only() {
    for (places, by_header, by_body) in
        [(json!(["header"]), true, false), (json!(["body"]), false, true), (json!(["header", "body"]), true, true)]
    {
        let engine = engine(&["password"], |c| c["password_param_type"] = places);
        assert_eq!(engine.needs_form(), by_body);
        for (ask, is_taken) in [(basic(ALICE), by_header), (form("username=alice&password=alice-password"), by_body)] {
            let mut world = World::new();
            let seen = Browser::new().ask(&mut world, &engine, ask);
            assert_eq!(seen.reason, if is_taken { Reason::Allowed } else { Reason::NoToken });
            // Never from a query.
            let ask = program("/?username=alice&password=alice-password");
            assert_eq!(Browser::new().ask(&mut world, &engine, ask).reason, Reason::NoToken);
        }
    }
}

#[test]
fn a_form_holds_each_of_the_two_once() {
    let engine = engine(&["password"], |c| c["password_param_type"] = json!(["body"]));
    for (text, reason) in [
        ("username=alice&password=alice-password", Reason::Allowed),
        ("x=y&password=alice%2Dpassword&user%6eame=alice&", Reason::Allowed),
        // A form of the application's own.
        ("username=alice", Reason::NoToken),
        ("password=x", Reason::NoToken),
        ("username=alice&password=a&password=b", Reason::CredentialsMalformed),
        ("username=alice&username=alice&password=a", Reason::CredentialsMalformed),
        ("username=alice&password=a%00", Reason::CredentialsMalformed),
        ("user=alice&pass=x", Reason::NoToken),
        ("", Reason::NoToken),
    ] {
        assert_eq!(ask(&mut World::new(), &engine, form(text)).reason, reason, "{text}");
    }
}

#[test]
fn a_password_that_was_refused_is_refused_for_five_seconds_without_asking() {
    let (mut world, engine) = (World::new(), engine(&["password"], |_| {}));
    let seen = ask(&mut world, &engine, basic("alice:wrong"));
    assert_eq!((seen.reason, seen.status), (Reason::CredentialsRefused, 401));
    assert_eq!(seen.detail, "password: invalid_grant");
    world.pass(4);
    assert_eq!(ask(&mut world, &engine, basic("alice:wrong")).reason, Reason::CredentialsRefused);
    assert_eq!(world.sent(Endpoint::Token).len(), 1);
    // Of nobody else, and with no other password.
    assert_eq!(ask(&mut world, &engine, basic(ALICE)).reason, Reason::Allowed);
    assert_eq!(ask(&mut world, &engine, basic("alic:ewrong")).reason, Reason::CredentialsRefused);
    assert_eq!(world.sent(Endpoint::Token).len(), 2);
    world.pass(1);
    assert_eq!(ask(&mut world, &engine, basic("alice:wrong")).reason, Reason::CredentialsRefused);
    assert_eq!(world.sent(Endpoint::Token).len(), 1);
}

#[test]
fn a_token_for_a_password_is_kept_here_and_for_other_workers_until_shortly_before_its_end() {
    for (life, margin) in [(300, 30), (60, 20)] {
        let with = || engine(&["password"], |_| {});
        let (mut world, one, two) = (World::new(), with(), with());
        world.server.life = life;
        let token = ask(&mut world, &one, basic(ALICE)).bearer().to_owned();
        assert_eq!(world.sent(Endpoint::Token).len(), 1);
        world.pass(life - margin - 1);
        for engine in [&one, &two] {
            world.operations.clear();
            assert_eq!(ask(&mut world, engine, basic(ALICE)).bearer(), token);
        }
        assert!(world.sent(Endpoint::Token).is_empty());
        world.pass(1);
        assert_ne!(ask(&mut world, &two, basic(ALICE)).bearer(), token);
        assert_eq!(world.sent(Endpoint::Token).len(), 1);
        // Here it is the other worker's by now.
        ask(&mut world, &one, basic(ALICE));
        assert!(world.sent(Endpoint::Token).is_empty());
    }
}

#[test]
fn without_a_store_a_token_is_kept_in_memory_alone() {
    let with = || engine(&["password"], |c| without(c, "store_secret"));
    let (mut world, one, two) = (World::new(), with(), with());
    assert_eq!(ask(&mut world, &one, basic(ALICE)).reason, Reason::Allowed);
    assert_eq!(ask(&mut world, &one, basic(ALICE)).reason, Reason::Allowed);
    assert_eq!(world.sent(Endpoint::Token).len(), 1);
    assert_eq!(ask(&mut world, &two, basic(ALICE)).reason, Reason::Allowed);
    assert_eq!(world.sent(Endpoint::Token).len(), 1);
    assert!(world.operations.is_empty());
    // A store that fails is as none.
    let (mut world, engine) = (World::new(), engine(&["password"], |_| {}));
    world.break_store();
    assert_eq!(ask(&mut world, &engine, basic(ALICE)).reason, Reason::Allowed);
}

#[test]
fn what_is_kept_for_one_password_is_of_no_use_to_another() {
    let (mut world, one) = (World::new(), engine(&["password"], |_| {}));
    assert_eq!(ask(&mut world, &one, basic(ALICE)).reason, Reason::Allowed);
    for other in
        ["alice:alice-passwor", "alice:alice-password ", "alice:", "alic:ealice-password", "Alice:alice-password"]
    {
        assert_eq!(ask(&mut world, &one, basic(other)).reason, Reason::CredentialsRefused, "{other}");
    }
    // Nor where another client or another server is configured.
    world.sent(Endpoint::Token);
    let other = engine(&["client_credentials"], |_| {});
    assert_eq!(ask(&mut world, &other, basic(ALICE)).reason, Reason::CredentialsRefused);
    assert_eq!(world.sent(Endpoint::Token).len(), 1);
    for store in &world.operations {
        for secret in ["alice-password", "alice:"] {
            assert!(!store.value.windows(secret.len()).any(|w| w == secret.as_bytes()));
        }
    }
}

#[test]
fn two_requests_with_one_password_at_once_are_one_flight() {
    let (mut world, engine) = (World::new(), engine(&["password"], |_| {}));
    let flight = |world: &mut World, pair: &str| {
        let mut check = Browser::new().begin(world, &engine, &basic(pair));
        loop {
            if let keybound::Step::Fetch(fetch) = check.step()
                && fetch.endpoint == Endpoint::Token
            {
                return fetch.flight;
            }
            assert!(world.step(&mut check));
        }
    };
    let one = flight(&mut world, ALICE);
    assert_eq!(flight(&mut world, ALICE), one);
    assert_ne!(flight(&mut world, "alice:other"), one);
    assert_ne!(flight(&mut world, ROBOT), one);
}

#[test]
fn a_server_that_is_down_is_503_and_no_word_on_the_password() {
    let error = |status, error: &str| Fault::Answers(status, json!({"error": error}));
    for (fault, reason) in [
        (Fault::Fails(Outcome::Connect), Reason::ServerUnavailable),
        (error(500, "invalid_grant"), Reason::ServerUnavailable),
        (error(400, "invalid_scope"), Reason::ServerUnavailable),
        (error(401, "invalid_client"), Reason::ClientRefused),
        (error(401, "invalid_grant"), Reason::CredentialsRefused),
    ] {
        let (mut world, engine) = (World::new(), engine(&["password"], |_| {}));
        world.fault(Endpoint::Token, fault);
        let seen = ask(&mut world, &engine, basic(ALICE));
        assert_eq!((seen.reason, seen.status), (reason, reason.answer().status()), "{}", seen.detail);
        // Nobody asks again within a second.
        assert_eq!(ask(&mut world, &engine, basic(ALICE)).reason, reason);
        assert_eq!(world.sent(Endpoint::Token).len(), 1);
        world.heal();
        world.pass(1);
        let next = ask(&mut world, &engine, basic(ALICE)).reason;
        let expected = if reason == Reason::CredentialsRefused { reason } else { Reason::Allowed };
        assert_eq!(next, expected);
    }
}

#[test]
fn what_the_server_gives_for_credentials_is_held_to_the_rules() {
    let scoped = || engine(&["password"], |c| c["scopes_required"] = json!(["read"]));
    let (aud, scope): (Change, Change) = (|c| c["aud"] = "https://other.test".into(), |c| c["scope"] = "write".into());
    for (change, reason) in [(aud, Reason::AudienceMismatch), (scope, Reason::InsufficientScope)] {
        let mut world = World::new();
        world.server.access_token = change;
        assert_eq!(ask(&mut world, &scoped(), basic(ALICE)).reason, reason);
    }
    let mut world = World::new();
    world.server.id_token = |c| c["aud"] = "other".into();
    let seen = ask(&mut world, &scoped(), basic(ALICE));
    assert_eq!((seen.reason, seen.detail.as_str()), (Reason::IdTokenInvalid, "aud does not hold the client"));
    let mut world = World::new();
    world.server.answer = |answer| without(answer, "id_token");
    assert_eq!(ask(&mut world, &scoped(), basic(ALICE)).reason, Reason::Allowed);
}

// --- Client credentials

#[test]
fn rfc6749_4_4_2_a_the_client_authenticates_with_its_own_credentials() {
    for (places, ask) in
        [(json!(["header"]), basic(ROBOT)), (json!(["body"]), form("client_id=robot&client_secret=robot-secret"))]
    {
        let engine = engine(&["client_credentials"], |c| c["client_credentials_param_type"] = places);
        let mut world = World::new();
        let seen = Browser::new().ask(&mut world, &engine, ask);
        assert_eq!((seen.reason, seen.claims["client_id"].as_str()), (Reason::Allowed, Some("robot")));
        let fetch = world.fetched.iter().find(|fetch| fetch.endpoint == Endpoint::Token).expect("asked").clone();
        let sent: Vec<&str> =
            fetch.headers.iter().filter(|(name, _)| name == "authorization").map(|(_, v)| v.as_str()).collect();
        assert_eq!(sent, [format!("Basic {}", STANDARD.encode(ROBOT))]);
        let [form] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
        // Not what is for users.
        assert_eq!(names(form), ["grant_type", "scope"]);
        assert_eq!(get(form, "scope"), Some("read"));
    }
}

#[test]
fn wrong_credentials_of_a_client_are_401_and_not_the_gateways_fault() {
    let (mut world, engine) = (World::new(), engine(&["client_credentials"], |_| {}));
    for (pair, reason) in [("robot:wrong", Reason::CredentialsRefused), (ROBOT, Reason::Allowed)] {
        for _ in 0..2 {
            assert_eq!(ask(&mut world, &engine, basic(pair)).reason, reason);
        }
        assert_eq!(world.sent(Endpoint::Token).len(), 1);
    }
}

// --- Refresh token

fn refresh_token(world: &mut World) -> String {
    let engine = engine(&["password"], |_| {});
    ask(world, &engine, basic(ALICE));
    world.sent(Endpoint::Token);
    world.server.secrets.iter().rfind(|secret| secret.starts_with("refresh-")).expect("there").clone()
}

#[test]
fn a_refresh_token_is_exchanged_and_the_one_that_replaces_it_comes_back() {
    let (mut world, engine) = (World::new(), engine(&["refresh_token"], |_| {}));
    let old = refresh_token(&mut world);
    let seen = ask(&mut world, &engine, refresh(&old));
    assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
    let new = seen.header("refresh-token").expect("a new one").to_owned();
    assert!(new != old && world.server.secrets.contains(&new));
    assert_eq!(seen.upstream("refresh-token"), Some(None));
    let [form] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
    assert_eq!(names(form), ["grant_type", "refresh_token", "client_id"]);
    // A second request with the old one, at another worker, gets the same.
    let other = self::engine(&["refresh_token"], |_| {});
    let again = ask(&mut world, &other, refresh(&old));
    assert_eq!((again.bearer(), again.header("refresh-token")), (seen.bearer(), Some(new.as_str())));
    assert!(world.sent(Endpoint::Token).is_empty());
    assert_eq!(ask(&mut world, &engine, refresh(&new)).reason, Reason::Allowed);
}

#[test]
fn what_came_for_a_refresh_token_is_given_out_for_two_minutes() {
    let (mut world, engine) = (World::new(), engine(&["refresh_token"], |_| {}));
    let old = refresh_token(&mut world);
    assert_eq!(ask(&mut world, &engine, refresh(&old)).reason, Reason::Allowed);
    world.pass(119);
    assert_eq!(ask(&mut world, &engine, refresh(&old)).reason, Reason::Allowed);
    world.pass(1);
    assert_eq!(ask(&mut world, &engine, refresh(&old)).reason, Reason::CredentialsRefused);
}

#[test]
fn a_refresh_token_that_stays_is_not_sent_back() {
    let (mut world, engine) = (World::new(), engine(&["refresh_token"], |_| {}));
    let token = refresh_token(&mut world);
    world.server.rotates = false;
    let seen = ask(&mut world, &engine, refresh(&token));
    assert_eq!((seen.reason, seen.header("refresh-token")), (Reason::Allowed, None));
    assert_eq!(seen.upstream("refresh-token"), Some(None));
    let (mut world, engine) = (World::new(), self::engine(&["refresh_token"], |_| {}));
    let token = refresh_token(&mut world);
    world.server.answer = |answer| without(answer, "refresh_token");
    let seen = ask(&mut world, &engine, refresh(&token));
    assert_eq!((seen.reason, seen.header("refresh-token")), (Reason::Allowed, None));
}

#[test]
fn a_refresh_token_that_is_no_token_is_malformed() {
    let engine = engine(&["refresh_token"], |_| {});
    let long = "x".repeat(4097);
    for token in ["a b", "a\0", "a\r\nb", "\u{e4}", " ", long.as_str()] {
        let mut world = World::new();
        assert_eq!(ask(&mut world, &engine, refresh(token)).reason, Reason::CredentialsMalformed, "{token:?}");
        assert!(world.is_quiet());
    }
    let mut world = World::new();
    assert_eq!(ask(&mut world, &engine, refresh("unknown")).reason, Reason::CredentialsRefused);
    assert_eq!(ask(&mut world, &engine, refresh("")).reason, Reason::NoToken);
}

#[test]
fn the_header_is_left_alone_where_it_is_no_method() {
    let (mut world, engine) = (World::new(), engine(&["bearer", "password"], |_| {}));
    let seen = ask(&mut world, &engine, Ask { refresh_token: "x".into(), ..basic(ALICE) });
    assert_eq!((seen.reason, seen.upstream("refresh-token")), (Reason::Allowed, None));
}

// --- Which of them

#[test]
fn the_first_method_for_which_something_came_decides() {
    let methods = ["bearer", "refresh_token", "password", "client_credentials"];
    let engine = engine(&methods, |c| c["client_credentials_param_type"] = json!(["body"]));
    let mut world = World::new();
    let token = mint("ES256", |_| {});
    let all = Ask {
        authorization: Some(format!("Bearer {token}")),
        refresh_token: "unknown".into(),
        form: "client_id=robot&client_secret=robot-secret".into(),
        ..program("/")
    };
    let seen = ask(&mut world, &engine, all.clone());
    assert_eq!(seen.bearer(), token);
    let header = basic(ALICE).authorization;
    let with_password = Ask { authorization: header, ..all.clone() };
    assert_eq!(ask(&mut world, &engine, with_password.clone()).detail, "refresh_token: invalid_grant");
    let seen = ask(&mut world, &engine, Ask { refresh_token: String::new(), ..with_password });
    assert_eq!(seen.claims["client_id"], "gateway");
    let seen = ask(&mut world, &engine, Ask { refresh_token: String::new(), authorization: None, ..all });
    assert_eq!(seen.claims["client_id"], "robot");
}

#[test]
fn what_was_not_proved_is_logged_and_counted() {
    for (mode, is_told) in [("strict", true), ("optional", true), ("off", false)] {
        let methods = ["bearer", "refresh_token", "password", "client_credentials"];
        let engine = engine(&methods, |c| {
            c["client_credentials_param_type"] = json!(["body"]);
            c["proof_of_possession_mtls"] = mode.into();
        });
        let mut world = World::new();
        let token = refresh_token(&mut world);
        for (method, ask) in [
            ("password", basic(ALICE)),
            ("client_credentials", form("client_id=robot&client_secret=robot-secret")),
            ("refresh_token", refresh(&token)),
        ] {
            for certificate in [Some(CLIENT_A), None] {
                let seen = Browser::with(certificate).ask(&mut world, &engine, ask.clone());
                let note = format!("proof of possession was not checked, method={method}");
                assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
                assert_eq!(seen.detail, if is_told { note } else { String::new() });
            }
            let sample = format!("keybound_binding_skipped_total{{method=\"{method}\"}}");
            assert_eq!(counter(&engine, &sample), if is_told { 2 } else { 0 });
        }
        // A bearer token is checked all the same.
        let bearer = Ask { authorization: Some(format!("Bearer {}", mint("ES256", |_| {}))), ..program("/") };
        let seen = Browser::with(Some(CLIENT_B)).ask(&mut world, &engine, bearer);
        assert_eq!(seen.reason == Reason::Allowed, mode == "off");
    }
}

#[test]
fn a_grant_begins_a_session_whose_token_is_refreshed() {
    for method in ["password", "client_credentials"] {
        let engine = engine_with_sessions(&["session", method], |_| {});
        let (mut world, mut browser) = (World::new(), Browser::new());
        if method == "client_credentials" {
            // RFC 6749 §4.4.3: it should not, and the gateway could not use it.
            world.server.answer = |answer| answer["refresh_token"] = "refresh-of-the-robot".into();
        }
        let pair = if method == "password" { ALICE } else { ROBOT };
        let seen = browser.ask(&mut world, &engine, basic(pair));
        assert_eq!(seen.reason, Reason::Allowed);
        assert!(browser.has_session());
        let token = seen.bearer().to_owned();
        let seen = browser.ask(&mut world, &engine, api("/"));
        assert_eq!(seen.bearer(), token);
        assert_eq!(seen.detail, "proof of possession was not checked, method=session");
        world.pass(280);
        let seen = browser.ask(&mut world, &engine, api("/"));
        // A client has no refresh token.
        assert_eq!(seen.bearer() != token, method == "password");
        world.pass(280);
        let expected = if method == "password" { Reason::Allowed } else { Reason::SessionExpired };
        assert_eq!(browser.call(&mut world, &engine), expected);
    }
}

#[test]
fn a_session_of_a_password_may_be_bound_to_the_certificate() {
    let engine = engine_with_sessions(&["session", "password"], |c| c["session_bind_certificate"] = true.into());
    let (mut world, mut browser) = (World::new(), Browser::new());
    assert_eq!(browser.ask(&mut world, &engine, basic(ALICE)).reason, Reason::Allowed);
    let seen = browser.ask(&mut world, &engine, api("/"));
    assert_eq!((seen.reason, seen.detail.as_str()), (Reason::Allowed, ""));
    assert_eq!(browser.stolen(None).call(&mut world, &engine), Reason::SessionCertificateMissing);
    assert_eq!(browser.stolen(Some(CLIENT_B)).call(&mut world, &engine), Reason::SessionCertificateMismatch);
    // Whoever shows the password each time needs none.
    let seen = Browser::with(None).ask(&mut world, &engine, basic(ALICE));
    assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, 0));
}

#[test]
fn two_sessions_of_one_password_do_not_spend_the_same_refresh_token() {
    for storage in ["cookie", "store"] {
        // The second gets what was kept for the first.
        let engine = engine_with_sessions(&["session", "password"], |c| c["session_storage"] = storage.into());
        let (mut world, mut one, mut two) = (World::new(), Browser::new(), Browser::new());
        one.ask(&mut world, &engine, basic(ALICE));
        two.ask(&mut world, &engine, basic(ALICE));
        assert_ne!(one.cookie(SESSION), two.cookie(SESSION));
        for _ in 0..3 {
            world.pass(280);
            assert_eq!(one.call(&mut world, &engine), Reason::Allowed);
            // Whoever has the password can come again.
            let seen = two.ask(&mut world, &engine, basic(ALICE));
            assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
        }
    }
}

#[test]
fn a_client_that_calls_itself_the_gateway_is_not_believed() {
    let (mut world, engine) = (World::new(), engine(&["client_credentials"], |_| {}));
    for secret in ["", "x", "gateway-secret"] {
        let seen = ask(&mut world, &engine, basic(&format!("gateway:{secret}")));
        assert_eq!((seen.reason, seen.status), (Reason::CredentialsRefused, 401));
    }
    assert!(world.is_quiet());
    assert_eq!(ask(&mut world, &engine, basic(ROBOT)).reason, Reason::Allowed);
}

#[test]
fn a_refresh_token_of_the_client_begins_no_session() {
    let engine = engine_with_sessions(&["session", "refresh_token"], |_| {});
    let (mut world, mut browser) = (World::new(), Browser::new());
    let token = refresh_token(&mut world);
    let seen = browser.ask(&mut world, &engine, refresh(&token));
    assert_eq!((seen.reason, seen.cookies().len()), (Reason::Allowed, 0));
    assert!(seen.header("refresh-token").is_some());
}

#[test]
fn another_site_begins_no_session_for_its_visitors() {
    for (site, is_begun) in [("same-origin", true), ("", true), ("cross-site", false), ("same-site", false)] {
        let engine = engine_with_sessions(&["session", "password"], |c| c["password_param_type"] = json!(["body"]));
        let (mut world, mut browser) = (World::new(), Browser::new());
        let own = form("username=alice&password=alice-password");
        let seen = browser.ask(&mut world, &engine, Ask { site, ..own });
        assert_eq!((seen.reason, browser.has_session()), (Reason::Allowed, is_begun), "{site}");
    }
}

#[test]
fn a_token_that_is_no_good_is_not_given_out_again() {
    // Revoked at the server, and kept here: the credentials are good for another.
    let engine = engine(&["introspection", "password"], |c| c["introspection_cache_ttl"] = 0.into());
    let mut world = World::new();
    world.server.access_token = |c| c["opaque"] = format!("opaque-{}", c["jti"]).into();
    let first = ask(&mut world, &engine, basic(ALICE)).bearer().to_owned();
    assert_eq!(ask(&mut world, &engine, basic(ALICE)).bearer(), first);
    world.server.secrets.retain(|secret| *secret != first);
    world.pass(1);
    let seen = ask(&mut world, &engine, basic(ALICE));
    assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
    assert_ne!(seen.bearer(), first);
    assert_eq!(world.sent(Endpoint::Token).len(), 2);
}

// --- The gateway's own token

fn upstream(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine(&["bearer"], |c| {
        without(c, "scopes");
        c["upstream_client_credentials"] = true.into();
        c["upstream_client_credentials_args_names"] = json!(["scope", "resource"]);
        c["upstream_client_credentials_args_values"] = json!(["internal", "https://upstream.test"]);
        change(c);
    })
}

fn bearer(jti: &str) -> Ask {
    let token = mint("ES256", |c| (c["jti"], c["exp"]) = (jti.into(), (NOW + 9000).into()));
    Ask { authorization: Some(format!("Bearer {token}")), ..program("/") }
}

#[test]
fn the_upstream_gets_the_gateways_own_token_and_never_the_clients() {
    let (mut world, one, two) = (World::new(), upstream(|_| {}), upstream(|_| {}));
    let first = ask(&mut world, &one, bearer("1"));
    let own = first.bearer().to_owned();
    assert_eq!(world.server.secrets.iter().filter(|secret| **secret == own).count(), 1);
    assert_eq!(first.claims["jti"], "1");
    let [form] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
    assert_eq!(names(form), ["grant_type", "scope", "resource", "client_id"]);
    assert_eq!(get(form, "grant_type"), Some("client_credentials"));
    // One for many, and for all workers.
    for i in 0..10 {
        for engine in [&one, &two] {
            assert_eq!(ask(&mut world, engine, bearer(&i.to_string())).bearer(), own);
        }
    }
    assert!(world.sent(Endpoint::Token).is_empty());
    world.pass(270);
    assert_ne!(ask(&mut world, &one, bearer("1")).bearer(), own);
}

#[test]
fn whoever_is_refused_causes_no_request_for_it() {
    let (mut world, engine) = (World::new(), upstream(|_| {}));
    let seen = Browser::with(Some(CLIENT_B)).ask(&mut world, &engine, bearer("1"));
    assert_eq!(seen.reason, Reason::CertificateMismatch);
    assert_eq!(ask(&mut world, &engine, program("/")).reason, Reason::NoToken);
    assert!(world.sent(Endpoint::Token).is_empty());
}

#[test]
fn without_its_own_token_the_gateway_lets_nothing_through() {
    for fault in [
        Fault::Fails(Outcome::Connect),
        Fault::Answers(400, json!({"error": "invalid_grant"})),
        Fault::Answers(401, json!({"error": "invalid_client"})),
        Fault::Answers(200, json!({"access_token": "x", "token_type": "DPoP"})),
    ] {
        let (mut world, engine) = (World::new(), upstream(|_| {}));
        world.fault(Endpoint::Token, fault);
        let seen = ask(&mut world, &engine, bearer("1"));
        assert_eq!(seen.status, 503);
        assert!(matches!(seen.reason, Reason::ServerUnavailable | Reason::ClientRefused));
        assert!(seen.upstream.is_empty());
        world.heal();
        world.pass(1);
        assert_eq!(ask(&mut world, &engine, bearer("1")).reason, Reason::Allowed);
    }
}

#[test]
fn other_parameters_are_another_token() {
    let (mut world, one) = (World::new(), upstream(|_| {}));
    let two = upstream(|c| c["upstream_client_credentials_args_values"] = json!(["internal", "https://other.test"]));
    let three = upstream(|c| c["client_id"] = "gateway2".into());
    let own = ask(&mut world, &one, bearer("1")).bearer().to_owned();
    assert_ne!(ask(&mut world, &two, bearer("1")).bearer(), own);
    assert_eq!(ask(&mut world, &three, bearer("1")).reason, Reason::ClientRefused);
}

#[test]
fn a_session_goes_with_it() {
    let engine = engine_of(|c| c["upstream_client_credentials"] = true.into());
    let (mut world, mut browser) = (World::new(), Browser::new());
    browser.login(&mut world, &engine);
    world.sent(Endpoint::Token);
    let seen = browser.ask(&mut world, &engine, page("/"));
    let [form] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
    assert_eq!(get(form, "grant_type"), Some("client_credentials"));
    // The claims are the user's all the same.
    assert_eq!((seen.reason, &seen.claims["sub"]), (Reason::Allowed, &json!("alice")));
    assert!(world.server.secrets.iter().any(|secret| secret == seen.bearer()));
}

#[test]
fn what_was_granted_by_one_configuration_is_not_given_out_by_another() {
    let mut world = World::new();
    let first = engine(&["password"], |_| {});
    assert_eq!(ask(&mut world, &first, basic(ALICE)).reason, Reason::Allowed);
    assert_eq!(world.sent(Endpoint::Token).len(), 1);
    // Another worker of the same one finds it in the store.
    let twin = engine(&["password"], |_| {});
    assert_eq!(ask(&mut world, &twin, basic(ALICE)).reason, Reason::Allowed);
    assert!(world.sent(Endpoint::Token).is_empty());
    let others: [Change; 2] = [
        |c| c["scopes"] = json!(["openid", "write"]),
        |c| {
            c["token_post_args_names"] = json!(["resource"]);
            c["token_post_args_values"] = json!(["https://other.test"]);
        },
    ];
    for change in others {
        let other = engine(&["password"], change);
        assert_eq!(ask(&mut world, &other, basic(ALICE)).reason, Reason::Allowed);
        assert_eq!(world.sent(Endpoint::Token).len(), 1);
    }
}
