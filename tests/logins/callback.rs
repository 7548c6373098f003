//! What comes back from the authorization server, and from those who are not it.

use std::sync::Arc;

use keybound::steps::{Endpoint, Outcome, StoreOperation};
use keybound::{Engine, Reason, Step};
use serde_json::{Value, json};

use crate::common::{CLIENT_A, CLIENT_B, ISSUER, NOW, b64, mint_raw, without};
use crate::world::{
    Ask, Browser, Change, Fault, OTHER_SECRET, SECRET, SESSION, Seen, World, api, engine, get, page, pairs, query,
};

/// Makes the text of an ID token of its claims.
type Text = fn(&Value) -> String;

/// A browser that is about to come back, and where to.
struct Coming {
    world: World,
    engine: Arc<Engine>,
    browser: Browser,
    target: String,
}

fn coming_with(change: impl FnOnce(&mut Value)) -> Coming {
    let (mut world, engine, mut browser) = (World::new(), engine(change), Browser::new());
    let target = browser.start(&mut world, &engine, "/start");
    world.fetched.clear();
    Coming { world, engine, browser, target }
}

fn coming() -> Coming {
    coming_with(|_| {})
}

impl Coming {
    fn come_back(&mut self) -> Seen {
        let target = self.target.clone();
        self.browser.come_back(&mut self.world, &self.engine, &target)
    }

    fn parameter(&self, name: &str) -> String {
        get(&pairs(self.target.split_once('?').expect("query").1.as_bytes()), name).expect("there").to_owned()
    }

    /// Comes back with these parameters.
    fn with(&mut self, parameters: &[(&str, &str)]) -> Seen {
        self.target = format!("/callback?{}", query(parameters));
        self.come_back()
    }

    /// Whether nothing was asked of the token endpoint, and there is no session.
    fn is_untouched(&mut self) -> bool {
        self.world.sent(Endpoint::Token).is_empty() && !self.browser.has_session()
    }

    fn login_cookie(&self) -> String {
        let names = self.browser.names();
        names.into_iter().find(|name| name.starts_with("__Host-session_login_")).expect("there").to_owned()
    }
}

fn refused(seen: &Seen, reason: Reason) {
    assert_eq!((seen.reason, seen.status), (reason, reason.answer().status()), "{}", seen.detail);
    assert!(seen.is_page());
    assert_eq!(seen.header("cache-control"), Some("no-store"));
}

// --- The state

#[test]
fn rfc6749_10_12_a_a_response_that_this_browser_did_not_ask_for_is_refused() {
    let mut coming = coming();
    // Another browser brings it: login CSRF.
    let mut other = Browser::new();
    let seen = other.come_back(&mut coming.world, &coming.engine, &coming.target);
    refused(&seen, Reason::LoginStateMissing);
    // One that has a login of its own under way, too.
    other.start(&mut coming.world, &coming.engine, "/other");
    let seen = other.come_back(&mut coming.world, &coming.engine, &coming.target);
    refused(&seen, Reason::LoginStateMissing);
    assert!(!other.has_session() && coming.is_untouched());
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn rfc6749_10_12_b_a_cookie_under_the_name_of_another_state_is_refused() {
    let mut coming = coming();
    let own = coming.login_cookie();
    let value = coming.browser.cookie(&own).expect("there").to_owned();
    let other = coming.browser.start(&mut coming.world, &coming.engine, "/other");
    let name = coming.browser.names().into_iter().find(|name| *name != own).expect("two").to_owned();
    coming.browser.set(&name, &value);
    let seen = coming.browser.come_back(&mut coming.world, &coming.engine, &other);
    refused(&seen, Reason::LoginStateInvalid);
    assert!(coming.is_untouched());
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn a_state_that_shares_the_first_characters_is_another() {
    let mut coming = coming();
    let (state, code) = (coming.parameter("state"), coming.parameter("code"));
    for at in 16..42 {
        let mut other = state.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).expect("text");
        let seen = coming.with(&[("code", &code), ("state", &other), ("iss", ISSUER)]);
        refused(&seen, Reason::LoginStateInvalid);
    }
    assert!(coming.is_untouched());
    assert_eq!(coming.with(&[("code", &code), ("state", &state), ("iss", ISSUER)]).reason, Reason::LoginCompleted);
}

#[test]
fn a_response_that_came_before_is_refused_whoever_kept_the_cookie() {
    let mut coming = coming();
    let mut kept = coming.browser.clone();
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
    assert_eq!(coming.world.sent(Endpoint::Token).len(), 1);
    // The browser forgot it.
    let target = coming.target.clone();
    let seen = coming.browser.come_back(&mut coming.world, &coming.engine, &target);
    refused(&seen, Reason::LoginStateMissing);
    // Who did not forget it is told by the store, at each worker.
    let worker = engine(|_| {});
    for engine in [&coming.engine, &worker] {
        let seen = kept.clone().come_back(&mut coming.world, engine, &target);
        refused(&seen, Reason::LoginStateReused);
    }
    // Until the login is too old anyway.
    coming.world.pass(599);
    refused(&kept.clone().come_back(&mut coming.world, &worker, &target), Reason::LoginStateReused);
    coming.world.pass(1);
    refused(&kept.come_back(&mut coming.world, &worker, &target), Reason::LoginStateInvalid);
    assert!(coming.world.sent(Endpoint::Token).is_empty());
}

#[test]
fn two_responses_at_the_same_moment_are_one_exchange() {
    let mut coming = coming();
    let ask = Ask { site: "cross-site", ..page(&coming.target) };
    let worker = engine(|_| {});
    let mut first = coming.browser.begin(&coming.world, &coming.engine, &ask);
    let mut second = coming.browser.begin(&coming.world, &worker, &ask);
    let is_token = |step: &Step<'_>| matches!(step, Step::Fetch(fetch) if fetch.endpoint == Endpoint::Token);
    coming.world.run_to(&mut first, is_token);
    let seen = coming.browser.clone().end(&mut coming.world, &mut second);
    refused(&seen, Reason::LoginStateReused);
    assert_eq!(coming.browser.end(&mut coming.world, &mut first).reason, Reason::LoginCompleted);
    assert_eq!(coming.world.sent(Endpoint::Token).len(), 1);
}

#[test]
fn a_sealed_login_is_good_at_the_host_the_instance_and_the_key_of_its_beginning() {
    let elsewhere: [(&str, Change); 5] = [
        ("another host", |c| c["redirect_uri"] = "https://other.test/callback".into()),
        ("another port", |c| c["redirect_uri"] = "https://api.test:8443/callback".into()),
        ("another audience", |c| c["session_audience"] = "other".into()),
        ("another client", |c| c["client_id"] = "other".into()),
        ("another secret", |c| c["session_secret"] = OTHER_SECRET.into()),
    ];
    for (what, change) in elsewhere {
        let mut coming = coming();
        let other = engine(change);
        let host = match what {
            "another host" => "other.test",
            "another port" => "api.test:8443",
            _ => "api.test",
        };
        let ask = Ask { host: host.into(), ..page(&coming.target) };
        refused(&coming.browser.clone().ask(&mut coming.world, &other, ask), Reason::LoginStateInvalid);
        assert!(coming.is_untouched(), "{what}");
    }
    let same: [Change; 3] = [
        |_| {},
        |c| {
            c["session_secret"] = OTHER_SECRET.into();
            c["session_previous_secrets"] = json!([SECRET]);
        },
        |c| c["scopes"] = json!(["openid", "more"]),
    ];
    for change in same {
        let mut coming = coming();
        coming.engine = engine(change);
        assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
    }
}

#[test]
fn the_cookie_of_a_session_is_none_of_a_login_and_the_other_way_round() {
    let mut coming = coming();
    let name = coming.login_cookie();
    let login = coming.browser.cookie(&name).expect("there").to_owned();
    let mut other = Browser::new();
    other.login(&mut coming.world, &coming.engine);
    let session = other.cookie(SESSION).expect("there").to_owned();
    other.set(SESSION, &login);
    assert_eq!(other.call(&mut coming.world, &coming.engine), Reason::SessionInvalid);
    coming.browser.set(&name, &session);
    refused(&coming.come_back(), Reason::LoginStateInvalid);
    coming.browser.set(&name, &login);
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn every_change_of_the_cookie_is_refused() {
    let mut coming = coming();
    let name = coming.login_cookie();
    let value = coming.browser.cookie(&name).expect("there").to_owned();
    for at in 0..value.len() {
        let mut changed = value.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        coming.browser.set(&name, std::str::from_utf8(&changed).expect("text"));
        refused(&coming.come_back(), Reason::LoginStateInvalid);
        coming.browser.set(&name, &value[..at]);
        refused(&coming.come_back(), Reason::LoginStateInvalid);
    }
    assert!(coming.is_untouched());
    coming.browser.set(&name, &value);
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn a_clock_that_was_set_back_far_ends_the_login() {
    for (seconds, reason) in [(-60, Reason::LoginCompleted), (-61, Reason::LoginStateInvalid)] {
        let mut coming = coming();
        coming.world.pass(seconds);
        // The server's clock is the right one.
        coming.world.server.id_token = |claims| claims["iat"] = (NOW - 61).into();
        coming.world.server.access_token = |claims| claims["iat"] = (NOW - 61).into();
        assert_eq!(coming.come_back().reason, reason, "{seconds}");
    }
}

// --- The issuer

#[test]
fn rfc9207_2_4_a_the_response_of_another_issuer_is_refused_and_its_code_goes_nowhere() {
    for iss in [Some("https://evil.test"), Some("https://as.test/"), Some("https://AS.test"), Some(""), None] {
        let mut coming = coming();
        let (state, code) = (coming.parameter("state"), coming.parameter("code"));
        let mut parameters = vec![("code", code.as_str()), ("state", state.as_str())];
        parameters.extend(iss.map(|iss| ("iss", iss)));
        refused(&coming.with(&parameters), Reason::LoginIssuerMismatch);
        assert!(coming.is_untouched(), "{iss:?}");
        // It is over: the right one comes too late.
        refused(&coming.with(&[("code", &code), ("state", &state), ("iss", ISSUER)]), Reason::LoginStateMissing);
    }
    assert_eq!(coming().come_back().reason, Reason::LoginCompleted);
}

#[test]
fn rfc9207_2_4_b_where_it_is_not_promised_iss_may_be_absent_and_may_not_be_another() {
    for (iss, reason) in [
        (None, Reason::LoginCompleted),
        (Some(ISSUER), Reason::LoginCompleted),
        (Some("https://evil.test"), Reason::LoginIssuerMismatch),
    ] {
        let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
        without(&mut world.server.metadata, "authorization_response_iss_parameter_supported");
        let target = browser.start(&mut world, &engine, "/");
        let mut coming = Coming { world, engine, browser, target };
        let (state, code) = (coming.parameter("state"), coming.parameter("code"));
        let mut parameters = vec![("code", code.as_str()), ("state", state.as_str())];
        parameters.extend(iss.map(|iss| ("iss", iss)));
        assert_eq!(coming.with(&parameters).reason, reason, "{iss:?}");
    }
}

#[test]
fn rfc9207_2_4_c_an_error_of_another_issuer_is_refused_too() {
    let mut coming = coming();
    let state = coming.parameter("state");
    let seen = coming.with(&[("error", "access_denied"), ("state", &state), ("iss", "https://evil.test")]);
    refused(&seen, Reason::LoginIssuerMismatch);
}

// --- The parameters

#[test]
fn rfc6749_4_1_2_a_what_is_no_authorization_response_is_refused_and_the_login_goes_on() {
    let mut coming = coming();
    let (state, code) = (coming.parameter("state"), coming.parameter("code"));
    let good = format!("code={code}&state={state}&iss=https%3A%2F%2Fas.test");
    let long = "x".repeat(4097);
    for bad in [
        String::new(),
        format!("code={code}&iss=https%3A%2F%2Fas.test"),
        format!("state={state}&iss=https%3A%2F%2Fas.test"),
        format!("{good}&code={code}"),
        format!("{good}&%63ode={code}"),
        format!("{good}&state={state}"),
        format!("{good}&iss=https%3A%2F%2Fas.test"),
        format!("{good}&iss=https%3A%2F%2Fevil.test"),
        format!("{good}&error=access_denied"),
        format!("code=&state={state}&iss=https%3A%2F%2Fas.test"),
        format!("code={code}%00&state={state}&iss=https%3A%2F%2Fas.test"),
        format!("code={code}%0d%0a&state={state}&iss=https%3A%2F%2Fas.test"),
        format!("code={code}%20x&state={state}&iss=https%3A%2F%2Fas.test"),
        format!("code={code}%ff&state={state}&iss=https%3A%2F%2Fas.test"),
        format!("code={long}&state={state}&iss=https%3A%2F%2Fas.test"),
        format!("code={code}&state={state}%00&iss=https%3A%2F%2Fas.test"),
        format!("code={code}&state={state}x&iss=https%3A%2F%2Fas.test"),
        format!("code={code}&state=&iss=https%3A%2F%2Fas.test"),
        format!("code={code}&state={}&iss=https%3A%2F%2Fas.test", "x".repeat(100_000)),
        format!("code={code}&state={state}&iss={}", "x".repeat(2049)),
        format!("{good}&x={}", "x".repeat(8192)),
        format!("{good}&x=%00"),
        format!("response=ey.ey.sig&state={state}"),
    ] {
        coming.target = format!("/callback?{bad}");
        let seen = coming.come_back();
        refused(&seen, Reason::LoginResponseMalformed);
        assert!(seen.cookies().is_empty(), "{bad}");
    }
    for target in ["/callback", "/callback?", "/callback?#"] {
        target.clone_into(&mut coming.target);
        refused(&coming.come_back(), Reason::LoginResponseMalformed);
    }
    assert!(coming.is_untouched());
    coming.target = format!("/callback?{good}&session_state=abc&scope=openid&error_description=a%0Ab");
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn a_response_comes_by_get_alone() {
    let mut coming = coming();
    for method in ["POST", "HEAD", "PUT", "OPTIONS", "get", ""] {
        let ask = Ask { method, ..page(&coming.target) };
        let seen = coming.browser.ask(&mut coming.world, &coming.engine, ask);
        assert_eq!((seen.reason, seen.status), (Reason::LoginResponseMalformed, 400), "{method}");
    }
    assert!(coming.is_untouched());
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn nothing_that_is_sent_to_the_redirect_uri_reaches_the_upstream() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    browser.login(&mut world, &engine);
    for ask in [page("/callback"), api("/callback?x"), Ask { method: "POST", ..api("/callback") }] {
        assert_eq!(browser.ask(&mut world, &engine, ask).reason, Reason::LoginResponseMalformed);
    }
    for target in ["/callback/", "/Callback", "/callback/x", "/x/callback"] {
        assert_eq!(browser.ask(&mut world, &engine, page(target)).reason, Reason::Allowed, "{target}");
    }
}

#[test]
fn rfc6749_4_1_2_1_a_an_error_of_the_server_is_a_page_for_the_user() {
    for (error, reason) in [
        ("access_denied", Reason::LoginRefused),
        ("login_required", Reason::LoginRefused),
        ("<script>alert(1)</script>", Reason::LoginRefused),
        ("temporarily_unavailable", Reason::ServerUnavailable),
        ("server_error", Reason::ServerUnavailable),
    ] {
        let mut coming = coming();
        let state = coming.parameter("state");
        let description = ("error_description", "<script>alert(2)</script>\r\n");
        let seen = coming.with(&[("error", error), ("state", &state), ("iss", ISSUER), description]);
        refused(&seen, reason);
        assert!(!seen.body.contains("script") && !seen.detail.contains("script"));
        let told = if error.starts_with('<') { "unknown" } else { error };
        assert_eq!(seen.detail, format!("the authorization server said {told}"));
        assert!(coming.is_untouched() && coming.browser.jar.is_empty());
        // A later code is too late.
        refused(&coming.with(&[("code", "c"), ("state", &state), ("iss", ISSUER)]), Reason::LoginStateMissing);
    }
}

#[test]
fn a_program_is_told_in_json() {
    let mut coming = coming();
    let ask = api("/callback?state=x");
    let seen = coming.browser.ask(&mut coming.world, &coming.engine, ask);
    assert_eq!((seen.status, seen.body.as_str()), (400, r#"{"message":"Bad Request"}"#));
    assert_eq!(seen.challenge, None);
}

// --- The code

#[test]
fn rfc9700_4_5_a_the_code_of_another_login_is_refused() {
    // The code of another user, in a response to our own request.
    let mut coming = coming();
    let mut victim = Browser::new();
    let theirs = victim.start(&mut coming.world, &coming.engine, "/");
    let code = get(&pairs(theirs.split_once('?').expect("query").1.as_bytes()), "code").expect("there").to_owned();
    let state = coming.parameter("state");
    let seen = coming.with(&[("code", &code), ("state", &state), ("iss", ISSUER)]);
    refused(&seen, Reason::CodeRefused);
    assert_eq!(seen.detail, "invalid_grant");
    assert!(!coming.browser.has_session());
}

#[test]
fn rfc9700_4_5_b_a_code_that_the_server_gives_tokens_for_all_the_same_fails_by_its_nonce() {
    let mut coming = coming();
    coming.world.server.id_token = |claims| claims["nonce"] = "that of another login".into();
    let seen = coming.come_back();
    refused(&seen, Reason::IdTokenInvalid);
    assert_eq!(seen.detail, "nonce is not that of the login");
    assert!(!coming.browser.has_session());
}

#[test]
fn what_the_token_endpoint_answers_decides_and_the_code_is_sent_once() {
    use Reason::{ClientRefused, CodeRefused, ServerUnavailable};
    let error = |status, error: &str| Fault::Answers(status, json!({"error": error, "error_description": "secret"}));
    for (fault, reason) in [
        (error(400, "invalid_grant"), CodeRefused),
        (error(400, "access_denied"), CodeRefused),
        (error(400, "invalid_request"), ServerUnavailable),
        (error(400, "unsupported_grant_type"), ServerUnavailable),
        (error(401, "invalid_client"), ClientRefused),
        (error(400, "unauthorized_client"), ClientRefused),
        (error(500, "invalid_grant"), ServerUnavailable),
        (Fault::Answers(302, json!({})), ServerUnavailable),
        (Fault::Answers(200, json!({})), ServerUnavailable),
        (Fault::Answers(200, json!("token")), ServerUnavailable),
        (Fault::Fails(Outcome::Timeout), ServerUnavailable),
        (Fault::Fails(Outcome::Tls), ServerUnavailable),
        (Fault::Fails(Outcome::Malformed), ServerUnavailable),
        (Fault::Fails(Outcome::Busy), ServerUnavailable),
    ] {
        let mut coming = coming();
        coming.world.fault(Endpoint::Token, fault);
        let seen = coming.come_back();
        refused(&seen, reason);
        assert!(!seen.detail.contains("secret"));
        assert_eq!(seen.retry_after, (seen.status == 503).then_some(5));
        assert_eq!(coming.world.sent(Endpoint::Token).len(), 1);
        // Nor is it sent when the user asks for the page again.
        coming.world.heal();
        refused(&coming.come_back(), Reason::LoginStateMissing);
        assert!(coming.is_untouched());
    }
}

#[test]
fn rfc6749_5_1_a_only_a_whole_answer_of_bearer_tokens_is_taken() {
    let changes: [(&str, Change); 9] = [
        ("a DPoP token", |a| a["token_type"] = "DPoP".into()),
        ("no type", |a| without(a, "token_type")),
        ("over at once", |a| a["expires_in"] = 0.into()),
        ("over before", |a| a["expires_in"] = (-1).into()),
        ("a lifetime in words", |a| a["expires_in"] = "300".into()),
        ("no token", |a| without(a, "access_token")),
        ("an empty one", |a| a["access_token"] = "".into()),
        ("a line end in it", |a| a["access_token"] = "a\r\nb".into()),
        ("too long a refresh token", |a| a["refresh_token"] = "x".repeat(8193).into()),
    ];
    for (what, change) in changes {
        let mut coming = coming();
        coming.world.server.answer = change;
        let seen = coming.come_back();
        refused(&seen, Reason::ServerUnavailable);
        assert!(!coming.browser.has_session() && !seen.detail.is_empty(), "{what}");
    }
    let fine: [Change; 5] = [
        |a| a["token_type"] = "bearer".into(),
        |a| without(a, "expires_in"),
        |a| without(a, "refresh_token"),
        |a| without(a, "scope"),
        |a| a["more"] = json!([1]),
    ];
    for change in fine {
        let mut coming = coming();
        coming.world.server.answer = change;
        assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
        assert_eq!(coming.browser.call(&mut coming.world, &coming.engine), Reason::Allowed);
    }
}

// --- The ID token

#[test]
fn oidc_3_1_3_7_a_an_id_token_that_is_not_of_this_login_is_refused() {
    let changes: [(Change, &str); 22] = [
        (|c| c["iss"] = "https://evil.test".into(), "iss is not the issuer"),
        (|c| without(c, "iss"), "iss is not the issuer"),
        (|c| c["aud"] = "other".into(), "aud does not hold the client"),
        (|c| c["aud"] = json!(["gateway", "other"]), "aud holds somebody who is not trusted"),
        (|c| c["aud"] = json!(["gateway", "https://api.test"]), "there are several aud and no azp"),
        (|c| without(c, "aud"), "there is no aud"),
        (|c| c["azp"] = "other".into(), "azp is not the client"),
        (|c| c["exp"] = NOW.into(), "token_expired"),
        (|c| without(c, "exp"), "there is no exp"),
        (|c| c["iat"] = (NOW + 61).into(), "token_issued_in_future"),
        (|c| c["iat"] = (NOW - 86_401).into(), "iat is more than 24 hours ago"),
        (|c| without(c, "iat"), "there is no iat"),
        (|c| c["nbf"] = (NOW + 11).into(), "token_not_yet_valid"),
        (|c| c["nonce"] = "other".into(), "nonce is not that of the login"),
        (|c| without(c, "nonce"), "there is no nonce"),
        (|c| c["nonce"] = json!([]), "claims_malformed"),
        (|c| c["at_hash"] = "77QmUPtjPfzWtF2AnpK9RQ".into(), "at_hash is not that of the access token"),
        (|c| c["at_hash"] = "".into(), "at_hash is not that of the access token"),
        (|c| without(c, "sub"), "there is no sub"),
        (|c| c["sub"] = "".into(), "sub is empty or longer than 255 bytes"),
        (|c| c["events"] = json!({}), "events is there: it is a logout token"),
        (|c| c["sub"] = 1.into(), "claims_malformed"),
    ];
    for (change, rule) in changes {
        let mut coming = coming();
        coming.world.server.id_token = change;
        let seen = coming.come_back();
        refused(&seen, Reason::IdTokenInvalid);
        assert_eq!(seen.detail, rule);
        assert!(!coming.browser.has_session());
    }
    let fine: [Change; 5] = [
        |c| without(c, "at_hash"),
        |c| c["aud"] = json!(["gateway"]),
        |c| (c["aud"], c["azp"]) = (json!(["gateway", "https://api.test"]), "gateway".into()),
        |c| c["exp"] = (NOW + 1).into(),
        |c| c["iat"] = (NOW + 60).into(),
    ];
    for change in fine {
        let mut coming = coming();
        coming.world.server.id_token = change;
        let seen = coming.come_back();
        assert_eq!(seen.reason, Reason::LoginCompleted, "{}", seen.detail);
    }
}

#[test]
fn oidc_3_1_3_7_b_an_id_token_is_signed_by_the_server_with_an_algorithm_that_is_allowed() {
    let texts: [(Text, &str); 7] = [
        (|c| format!("{}.{}.", b64(br#"{"alg":"none"}"#), b64(c.to_string().as_bytes())), "algorithm_refused"),
        // Signed with the public key as a secret, as far as that goes: nothing is verified with HMAC at all.
        (|c| mint_raw("ES256", r#"{"alg":"HS256"}"#, &c.to_string()), "algorithm_refused"),
        (|c| mint_raw("ES256", r#"{"alg":"ES256","kid":"ES256","typ":"at+jwt"}"#, &c.to_string()), "type_refused"),
        (|c| mint_raw("ES256", r#"{"alg":"ES256","kid":"ES256","typ":"logout+jwt"}"#, &c.to_string()), "type_refused"),
        (|c| mint_raw("PS256", r#"{"alg":"PS256","kid":"PS256"}"#, &c.to_string()), "key_unknown"),
        (
            |c| {
                let token = mint_raw("ES256", r#"{"alg":"ES256","kid":"ES256"}"#, &c.to_string());
                let mut changed = c.clone();
                changed["sub"] = "root".into();
                let parts: Vec<&str> = token.split('.').collect();
                format!("{}.{}.{}", parts[0], b64(changed.to_string().as_bytes()), parts[2])
            },
            "signature_invalid",
        ),
        (|_| "a.b".to_owned(), "token_not_jwt"),
    ];
    for (text, rule) in texts {
        let mut coming = coming();
        coming.world.server.id_text = Some(text);
        let seen = coming.come_back();
        refused(&seen, Reason::IdTokenInvalid);
        assert_eq!(seen.detail, rule);
        assert!(!coming.browser.has_session());
    }
    let mut coming = coming();
    coming.world.server.id_text = Some(|c| mint_raw("ES256", r#"{"alg":"ES256","typ":"JWT"}"#, &c.to_string()));
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn an_algorithm_that_is_not_configured_is_none_for_id_tokens_either() {
    let mut coming = coming_with(|c| c["algorithms"] = json!(["ES256"]));
    coming.world.server.keys = vec!["ES256", "PS256"];
    coming.world.server.id_text = Some(|c| mint_raw("PS256", r#"{"alg":"PS256","kid":"PS256"}"#, &c.to_string()));
    let seen = coming.come_back();
    assert_eq!((seen.reason, seen.detail.as_str()), (Reason::IdTokenInvalid, "algorithm_refused"));
    let mut coming = coming_with(|c| c["algorithms"] = json!(["ES256", "PS256"]));
    coming.world.server.keys = vec!["ES256", "PS256"];
    coming.world.server.id_text = Some(|c| mint_raw("PS256", r#"{"alg":"PS256","kid":"PS256"}"#, &c.to_string()));
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn the_server_may_have_new_keys_by_now() {
    let (mut world, engine, mut browser) = (World::new(), engine(|_| {}), Browser::new());
    browser.login(&mut world, &engine);
    world.pass(60);
    world.server.keys = vec!["ES256", "PS256"];
    world.server.id_text = Some(|c| mint_raw("PS256", r#"{"alg":"PS256","kid":"PS256"}"#, &c.to_string()));
    world.fetched.clear();
    let mut second = Browser::new();
    second.login(&mut world, &engine);
    assert_eq!(world.sent(Endpoint::Jwks).len(), 1);
    assert_eq!(world.sent(Endpoint::Token).len(), 1);
}

#[test]
fn oidc_3_1_3_3_a_without_an_id_token_nobody_has_logged_in() {
    for change in [|a: &mut Value| without(a, "id_token"), |a: &mut Value| a["id_token"] = Value::Null] {
        let mut coming = coming();
        coming.world.server.answer = change;
        let seen = coming.come_back();
        refused(&seen, Reason::IdTokenInvalid);
        assert_eq!(seen.detail, "there is none");
        assert!(!coming.browser.has_session());
    }
}

#[test]
fn without_the_keys_of_the_server_a_login_is_503() {
    let mut coming = coming();
    coming.world.fault(Endpoint::Jwks, Fault::Fails(Outcome::Connect));
    refused(&coming.come_back(), Reason::KeysUnavailable);
    assert!(!coming.browser.has_session());
}

// --- The access token

#[test]
fn the_access_token_is_held_to_the_rules_before_there_is_a_session() {
    let changes: [(Change, Reason); 6] = [
        (|c| c["aud"] = "https://other.test".into(), Reason::AudienceMismatch),
        (|c| c["iss"] = "https://other.test".into(), Reason::IssuerMismatch),
        (|c| c["scope"] = "write".into(), Reason::InsufficientScope),
        (|c| c["exp"] = NOW.into(), Reason::TokenExpired),
        (|c| without(c, "jti"), Reason::ClaimMissing),
        (|c| c["opaque"] = "opaque-access-token".into(), Reason::TokenNotJwt),
    ];
    let scoped = || coming_with(|c| c["scopes_required"] = json!(["read"]));
    for (change, reason) in changes {
        let mut coming = scoped();
        coming.world.server.access_token = change;
        refused(&coming.come_back(), reason);
        assert!(!coming.browser.has_session());
    }
    assert_eq!(scoped().come_back().reason, Reason::LoginCompleted);
}

#[test]
fn an_access_token_that_is_opaque_is_introspected_where_that_is_configured() {
    let methods = json!(["session", "bearer", "introspection", "authorization_code"]);
    let mut coming = coming_with(|c| c["auth_methods"] = methods);
    coming.world.server.access_token = |c| c["opaque"] = "opaque-access-token".into();
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
    assert_eq!(coming.world.sent(Endpoint::Introspection).len(), 1);
    let seen = coming.browser.ask(&mut coming.world, &coming.engine, api("/"));
    assert_eq!(seen.bearer(), "opaque-access-token");
}

// --- The store, and the rest

#[test]
fn without_the_store_a_login_is_503_and_the_code_goes_nowhere() {
    let mut coming = coming();
    coming.world.break_store();
    refused(&coming.come_back(), Reason::StoreUnavailable);
    assert!(coming.is_untouched());
    // It may have been used: there is no second try.
    coming.world.heal();
    refused(&coming.come_back(), Reason::LoginStateMissing);
}

#[test]
fn a_session_that_cannot_be_stored_does_not_begin() {
    let mut coming = coming_with(|c| c["session_storage"] = "store".into());
    coming.world.store_fails = |store| store.operation == StoreOperation::Put;
    refused(&coming.come_back(), Reason::StoreUnavailable);
    assert!(!coming.browser.has_session());
}

#[test]
fn a_login_that_is_bound_comes_back_with_the_certificate_that_it_began_with() {
    for (certificate, reason) in [
        (None, Reason::SessionCertificateMissing),
        (Some(CLIENT_B), Reason::LoginStateInvalid),
        (Some(CLIENT_A), Reason::LoginCompleted),
    ] {
        let mut coming = coming();
        coming.browser.certificate = certificate;
        let seen = coming.come_back();
        assert_eq!(seen.reason, reason);
        assert_eq!(coming.browser.has_session(), reason == Reason::LoginCompleted);
        assert_eq!(coming.world.sent(Endpoint::Token).len(), usize::from(reason == Reason::LoginCompleted));
    }
    // One that is not bound may come back with any.
    let mut coming = coming_with(|c| {
        c["session_bind_certificate"] = false.into();
        c["proof_of_possession_mtls"] = "off".into();
    });
    coming.browser.certificate = Some(CLIENT_B);
    assert_eq!(coming.come_back().reason, Reason::LoginCompleted);
}

#[test]
fn tokens_too_large_for_cookies_are_refused_with_the_way_out() {
    for (storage, reason) in [("cookie", Reason::InternalError), ("store", Reason::LoginCompleted)] {
        let mut coming = coming_with(|c| c["session_storage"] = storage.into());
        coming.world.server.id_token = |claims| claims["groups"] = "x".repeat(10_000).into();
        let seen = coming.come_back();
        assert_eq!(seen.reason, reason);
        if reason == Reason::InternalError {
            assert!(seen.detail.contains("set session_storage to store"));
            assert!(!coming.browser.has_session());
        }
    }
}
