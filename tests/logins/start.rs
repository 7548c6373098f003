//! How a browser is sent to the authorization server.

use keybound::Reason;
use keybound::steps::{Endpoint, Outcome};
use serde_json::json;

use crate::common::{CLIENT_A, NOW, x5t};
use crate::world::{
    AUTHORIZE, Ask, Browser, Fault, HOST, Pairs, SESSION, World, api, engine, get, page, pairs, program,
};

fn asked(location: &str) -> Pairs {
    let (endpoint, query) = location.split_once('?').expect("a query");
    assert_eq!(endpoint, AUTHORIZE);
    pairs(query.as_bytes())
}

fn login_cookies(browser: &Browser) -> Vec<String> {
    let prefix = format!("{SESSION}_login_");
    browser.names().into_iter().filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect()
}

#[test]
fn a_login_leads_back_to_the_page_and_then_the_session_does() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    let target = browser.start(&mut world, &engine, "/orders?page=2");
    let seen = browser.come_back(&mut world, &engine, &target);
    assert_eq!((seen.reason, seen.status), (Reason::LoginCompleted, 302), "{}", seen.detail);
    assert_eq!(seen.location(), "https://api.test/orders?page=2");
    assert_eq!(browser.names(), [SESSION]);
    let seen = browser.ask(&mut world, &engine, page("/orders?page=2"));
    assert_eq!(seen.reason, Reason::Allowed);
    assert_eq!(seen.claims["sub"], "alice");
    assert!(seen.cookies().is_empty());
}

#[test]
fn only_a_navigation_is_sent_to_a_login() {
    let navigation = page("/x");
    let cases: &[(&str, Ask, bool)] = &[
        ("a navigation", navigation.clone(), true),
        ("from another site", Ask { site: "cross-site", ..navigation.clone() }, true),
        ("without Sec-Fetch-Dest", Ask { dest: "", ..navigation.clone() }, true),
        ("an older browser", Ask { mode: "", dest: "", site: "", ..navigation.clone() }, true),
        ("Accept in capitals", Ask { accept: "TEXT/HTML;q=1", ..program("/x") }, true),
        ("HTML last", Ask { accept: "application/json, text/html", ..program("/x") }, true),
        ("a frame", Ask { dest: "iframe", ..navigation.clone() }, false),
        ("an embedded object", Ask { dest: "object", ..navigation.clone() }, false),
        ("a script that wants HTML", Ask { mode: "cors", dest: "empty", ..navigation.clone() }, false),
        ("an image", Ask { mode: "no-cors", dest: "image", ..navigation.clone() }, false),
        ("a web socket", Ask { mode: "websocket", dest: "websocket", ..navigation.clone() }, false),
        ("fetch()", api("/x"), false),
        ("curl", program("/x"), false),
        ("nothing at all", Ask { accept: "", ..program("/x") }, false),
        ("something like HTML", Ask { accept: "text/html5, application/text/html", ..program("/x") }, false),
        ("POST", Ask { method: "POST", ..navigation.clone() }, false),
        ("HEAD", Ask { method: "HEAD", ..navigation.clone() }, false),
        ("PUT", Ask { method: "PUT", ..navigation.clone() }, false),
        ("get", Ask { method: "get", ..navigation.clone() }, false),
        ("OPTIONS", Ask { method: "OPTIONS", ..navigation }, false),
    ];
    let engine = engine(|_| {});
    for (what, ask, is_sent) in cases {
        let (mut world, mut browser) = (World::new(), Browser::new());
        let seen = browser.ask(&mut world, &engine, ask.clone());
        if *is_sent {
            assert_eq!((seen.reason, seen.status), (Reason::LoginStarted, 302), "{what}");
        } else {
            assert_eq!((seen.reason, seen.status), (Reason::NoToken, 401), "{what}");
            assert_eq!(seen.challenge.as_deref(), Some("Bearer"), "{what}");
            assert!(world.is_quiet() && browser.jar.is_empty(), "{what}");
        }
    }
}

#[test]
fn another_host_than_that_of_the_redirect_uri_sends_nobody_to_a_login() {
    let engine = engine(|_| {});
    for (host, is_sent) in [
        (HOST, true),
        ("API.test", true),
        ("api.test:443", true),
        ("api.test:8443", false),
        ("www.api.test", false),
        ("api.test.", false),
        ("api.test.evil.test", false),
        ("", false),
    ] {
        let (mut world, mut browser) = (World::new(), Browser::new());
        let seen = browser.ask(&mut world, &engine, Ask { host: host.into(), ..page("/") });
        let expected = if is_sent { Reason::LoginStarted } else { Reason::NoToken };
        assert_eq!(seen.reason, expected, "{host}");
        // Nor does anybody come back there.
        let seen = browser.ask(&mut world, &engine, Ask { host: host.into(), ..page("/callback?code=x") });
        let expected = if is_sent { Reason::LoginResponseMalformed } else { Reason::NoToken };
        assert_eq!(seen.reason, expected, "{host}");
    }
}

#[test]
fn rfc6749_4_1_1_a_and_rfc7636_4_3_a_the_request_has_these_parameters_and_no_others() {
    let engine = engine(|c| {
        c["authorization_query_args_names"] = json!(["resource", "acr_values"]);
        c["authorization_query_args_values"] = json!(["https://api.test/?a=b&c", "ä +"]);
    });
    let (mut world, mut browser) = (World::new(), Browser::new());
    let seen = browser.ask(&mut world, &engine, page("/"));
    let asked = asked(seen.location());
    let names: Vec<&str> = asked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "response_type",
            "client_id",
            "redirect_uri",
            "scope",
            "state",
            "nonce",
            "code_challenge",
            "code_challenge_method",
            "resource",
            "acr_values"
        ]
    );
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "gateway"),
        ("redirect_uri", "https://api.test/callback"),
        ("scope", "openid read"),
        ("code_challenge_method", "S256"),
        ("resource", "https://api.test/?a=b&c"),
        ("acr_values", "ä +"),
    ] {
        assert_eq!(get(&asked, name), Some(value));
    }
    let [state, nonce, challenge] = ["state", "nonce", "code_challenge"].map(|name| get(&asked, name).expect(name));
    assert!([state, nonce, challenge].iter().all(|random| random.len() == 43));
    assert!(state != nonce && nonce != challenge);
    // What is in the cookie is sealed.
    let cookies = browser.header();
    assert!(!cookies.contains(state) && !cookies.contains(nonce) && !cookies.contains(challenge));
    assert_eq!(login_cookies(&browser), [format!("{SESSION}_login_{}", &state[..16])]);
}

#[test]
fn rfc9700_4_2_4_a_the_redirect_is_kept_by_nobody_and_tells_no_referrer() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    let seen = browser.ask(&mut world, &engine, page("/"));
    assert_eq!(seen.header("cache-control"), Some("no-store"));
    assert_eq!(seen.header("referrer-policy"), Some("no-referrer"));
    let [cookie] = seen.cookies()[..] else { panic!("one cookie") };
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"), "{cookie}");
}

#[test]
fn rfc7636_4_6_a_the_verifier_that_is_sent_is_that_of_the_challenge() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    let seen = browser.ask(&mut world, &engine, page("/"));
    let challenge = get(&asked(seen.location()), "code_challenge").expect("there").to_owned();
    let target = world.server.authorize(seen.location());
    world.fetched.clear();
    assert_eq!(browser.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
    let fetch = world.fetched.iter().find(|fetch| fetch.endpoint == Endpoint::Token).expect("a request").clone();
    assert!(fetch.once && fetch.method == "POST" && fetch.url == "https://as.test:8443/token");
    // RFC 8705 §2: over mutual TLS, and with the client's id.
    assert_eq!(engine.tls_profiles()[fetch.tls].name.as_deref(), Some("gateway"));
    assert!(!fetch.headers.iter().any(|(name, _)| name == "authorization"));
    let [form] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
    let names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "code", "redirect_uri", "code_verifier", "client_id"]);
    assert_eq!(get(form, "grant_type"), Some("authorization_code"));
    assert_eq!(get(form, "redirect_uri"), Some("https://api.test/callback"));
    assert_eq!(get(form, "client_id"), Some("gateway"));
    assert_eq!(get(form, "code"), get(&pairs(target.split_once('?').expect("query").1.as_bytes()), "code"));
    assert_eq!(x5t(get(form, "code_verifier").expect("there").as_bytes()), challenge);
}

#[test]
fn rfc6749_2_3_a_a_client_with_a_secret_sends_it_and_no_client_id() {
    let engine = engine(|c| {
        c.as_object_mut().expect("object").retain(|name, _| !name.contains("cert"));
        c["session_bind_certificate"] = true.into();
        c["client_secret"] = "gateway-secret".into();
        c["token_post_args_names"] = json!(["audience"]);
        c["token_post_args_values"] = json!(["x"]);
    });
    let (mut world, mut browser) = (World::new(), Browser::new());
    browser.login(&mut world, &engine);
    let [form] = &world.sent(Endpoint::Token)[..] else { panic!("one request") };
    assert_eq!((get(form, "client_id"), get(form, "audience")), (None, Some("x")));
}

#[test]
fn rfc9126_5_a_a_request_is_pushed_where_the_metadata_or_the_option_says_so() {
    for (metadata, option, is_pushed) in [
        (None, None, false),
        (Some(false), None, false),
        (Some(true), None, true),
        (None, Some(true), true),
        (Some(true), Some(false), false),
        (Some(false), Some(true), true),
    ] {
        let engine = engine(|c| {
            if let Some(option) = option {
                c["require_pushed_authorization_requests"] = option.into();
            }
        });
        let (mut world, mut browser) = (World::new(), Browser::new());
        if let Some(metadata) = metadata {
            world.server.metadata["require_pushed_authorization_requests"] = metadata.into();
        }
        let seen = browser.ask(&mut world, &engine, page("/"));
        let asked = asked(seen.location());
        assert_eq!(world.server.pushed.len(), usize::from(is_pushed), "{metadata:?} {option:?}");
        if let [pushed] = &world.server.pushed[..] {
            assert_eq!(
                asked,
                [("client_id", "gateway"), ("request_uri", "urn:par:0")].map(|(n, v)| (n.into(), v.into()))
            );
            for name in ["response_type", "redirect_uri", "scope", "state", "nonce", "code_challenge", "client_id"] {
                assert!(get(pushed, name).is_some(), "{name}");
            }
        }
        let target = world.server.authorize(seen.location());
        assert_eq!(browser.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
    }
}

#[test]
fn rfc9126_2_3_a_a_pushed_request_that_is_not_taken_is_503() {
    use Reason::{ClientRefused, ServerUnavailable};
    for (fault, reason) in [
        (Fault::Fails(Outcome::Timeout), ServerUnavailable),
        (Fault::Answers(400, json!({"error": "invalid_request"})), ServerUnavailable),
        (Fault::Answers(401, json!({"error": "invalid_client"})), ClientRefused),
        (Fault::Answers(201, json!({})), ServerUnavailable),
        (Fault::Answers(201, json!({"request_uri": ""})), ServerUnavailable),
        (Fault::Answers(201, json!({"request_uri": "urn:a b"})), ServerUnavailable),
        (Fault::Answers(201, json!({"request_uri": "x".repeat(2049)})), ServerUnavailable),
    ] {
        let engine = engine(|c| c["require_pushed_authorization_requests"] = true.into());
        let (mut world, mut browser) = (World::new(), Browser::new());
        world.fault(Endpoint::Par, fault);
        let seen = browser.ask(&mut world, &engine, page("/"));
        assert_eq!((seen.reason, seen.status, seen.retry_after), (reason, 503, Some(5)), "{}", seen.detail);
        assert!(seen.is_page() && browser.jar.is_empty());
    }
}

#[test]
fn the_cookies_of_logins_under_way_stay_small_and_each_leads_back_to_its_page() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    let mut targets = Vec::new();
    for i in 0..30 {
        targets.push(browser.start(&mut world, &engine, &format!("/{i}?{}", "x".repeat(10 * i))));
        assert!((1..=4096).contains(&browser.header().len()), "{i}: {}", browser.header().len());
    }
    let under_way = login_cookies(&browser);
    // The oldest give way, and no more of them than have to.
    assert!(under_way.len() >= 3);
    for (name, target) in under_way.iter().zip(&targets[targets.len() - under_way.len()..]) {
        assert!(target.contains(&name[name.len() - 16..]));
    }
    for (i, target) in targets.iter().enumerate() {
        let state =
            get(&pairs(target.split_once('?').expect("query").1.as_bytes()), "state").expect("there").to_owned();
        let is_kept = under_way.iter().any(|name| name.ends_with(&state[..16]));
        let seen = browser.come_back(&mut world, &engine, target);
        if is_kept {
            assert_eq!(seen.location(), format!("https://api.test/{i}?{}", "x".repeat(10 * i)));
        } else {
            assert_eq!(seen.reason, Reason::LoginStateMissing);
        }
    }
    assert_eq!(browser.names(), [SESSION]);
}

#[test]
fn a_user_is_never_sent_to_another_site() {
    let long = format!("/{}", "x".repeat(1023));
    let too_long = format!("{long}x");
    for (target, back) in [
        ("/", "/"),
        ("/a/b?c=d&e=%2F%2Fevil.test", "/a/b?c=d&e=%2F%2Fevil.test"),
        ("/%0d%0aSet-Cookie:%20a=b", "/%0d%0aSet-Cookie:%20a=b"),
        ("/?next=https://evil.test", "/?next=https://evil.test"),
        (&long, &long),
        (&too_long, "/"),
        ("//evil.test/", "/"),
        ("///evil.test/", "/"),
        ("/\\evil.test/", "/"),
        ("\\\\evil.test/", "/"),
        ("/a\\b", "/"),
        ("/\tevil", "/"),
        ("/\r\nevil", "/"),
        ("/\0", "/"),
        ("/a b", "/"),
        ("/ä", "/"),
        ("/#x", "/"),
        ("https://evil.test/", "/"),
        ("http://api.test/", "/"),
        ("javascript:alert(1)", "/"),
        ("*", "/"),
        ("", "/"),
        ("@evil.test", "/"),
        (".evil.test", "/"),
        // Back to a logout would end the session that has just begun.
        ("/logout", "/"),
        ("/x/logout?y", "/"),
    ] {
        let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
        let seen = browser.start(&mut world, &engine, target);
        let seen = browser.come_back(&mut world, &engine, &seen);
        assert_eq!(seen.location(), format!("https://api.test{back}"), "{target:?}");
    }
}

#[test]
fn fault_9_a_server_that_is_down_gives_a_page_with_503() {
    let (mut world, engine, mut browser) =
        (World::new(), engine(|c| c["display_errors"] = true.into()), Browser::new());
    world.take_down();
    let seen = browser.ask(&mut world, &engine, page("/<script>"));
    assert_eq!((seen.reason, seen.status, seen.retry_after), (Reason::MetadataUnavailable, 503, Some(5)));
    assert!(seen.is_page() && seen.body.contains("Not available now") && seen.body.contains("metadata_unavailable"));
    assert!(!seen.body.contains("<script>"));
    assert_eq!(seen.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
    assert_eq!(seen.header("cache-control"), Some("no-store"));
    assert!(browser.jar.is_empty());
    // It was there once: to be sent to it now is of no use all the same.
    world.heal();
    world.pass(2);
    assert_eq!(browser.ask(&mut world, &engine, page("/")).reason, Reason::LoginStarted);
    world.take_down();
    world.pass(9);
    assert_eq!(browser.ask(&mut world, &engine, page("/")).reason, Reason::LoginStarted);
    world.pass(1);
    assert_eq!(browser.ask(&mut world, &engine, page("/")).reason, Reason::MetadataUnavailable);
    // And a program never hears of it.
    assert_eq!(browser.ask(&mut world, &engine, api("/")).reason, Reason::NoToken);
}

#[test]
fn a_server_without_an_authorization_endpoint_is_503_unless_it_is_configured() {
    let (mut world, mut browser) = (World::new(), Browser::new());
    world.server.metadata.as_object_mut().expect("object").remove("authorization_endpoint");
    assert_eq!(browser.ask(&mut world, &engine(|_| {}), page("/")).reason, Reason::MetadataUnavailable);
    let engine = engine(|c| c["authorization_endpoint"] = "https://login.test/go?tenant=1".into());
    let seen = browser.ask(&mut world, &engine, page("/"));
    assert!(seen.location().starts_with("https://login.test/go?tenant=1&response_type=code&"), "{}", seen.location());
}

#[test]
fn without_the_certificate_that_the_session_would_be_bound_to_nobody_is_sent_anywhere() {
    let modes = ["strict", "optional", "off"];
    for (mode, certificate, bind, is_sent) in modes.iter().flat_map(|mode| {
        [(mode, Some(CLIENT_A), true, true), (mode, None, true, *mode == "optional"), (mode, None, false, true)]
    }) {
        let engine = engine(|c| {
            c["proof_of_possession_mtls"] = (*mode).into();
            c["session_bind_certificate"] = bind.into();
            c["proof_of_possession_auth_methods_validation"] = false.into();
        });
        let (mut world, mut browser) = (World::new(), Browser::with(certificate));
        let seen = browser.ask(&mut world, &engine, page("/"));
        if is_sent {
            assert_eq!(seen.reason, Reason::LoginStarted, "{mode} {bind}");
        } else {
            assert_eq!((seen.reason, seen.status), (Reason::SessionCertificateMissing, 401), "{mode} {bind}");
            assert!(seen.is_page() && seen.body.contains("Certificate required"));
            assert!(world.is_quiet() && world.operations.is_empty());
        }
    }
}

#[test]
fn rfc8470_5_2_a_nothing_of_it_is_done_in_early_data() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    let target = browser.start(&mut world, &engine, "/");
    world.fetched.clear();
    for early in [page("/"), page(&target), Ask { method: "POST", ..api("/logout") }] {
        let seen = browser.ask(&mut world, &engine, Ask { early_data: true, ..early });
        assert_eq!((seen.reason, seen.status), (Reason::EarlyData, 425));
    }
    assert!(world.is_quiet());
    assert_eq!(browser.come_back(&mut world, &engine, &target).reason, Reason::LoginCompleted);
}

#[test]
fn a_login_may_take_as_long_as_the_option_says() {
    for (after, reason) in [(119, Reason::LoginCompleted), (120, Reason::LoginStateInvalid)] {
        let engine = engine(|c| c["login_timeout"] = 120.into());
        let (mut world, mut browser) = (World::new(), Browser::new());
        let target = browser.start(&mut world, &engine, "/");
        world.pass(after);
        assert_eq!(browser.come_back(&mut world, &engine, &target).reason, reason);
        assert_eq!(world.now(), NOW + after);
    }
}
