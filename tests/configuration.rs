//! A configuration that is wrong, or leaves a check out without saying so by name, is refused with the option's name.

mod common;

use common::{config, without};
use keybound::engine::{OPTIONS, Setting};
use keybound::{Engine, Verifier};
use serde_json::{Value, json};

fn refused(change: impl FnOnce(&mut Value)) -> String {
    match Verifier::new(&config(change)) {
        Ok(_) => "accepted".to_owned(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn the_smallest_configuration_is_accepted() {
    assert_eq!(refused(|_| {}), "accepted");
}

#[test]
fn every_option_refuses_wrong_types_and_names_itself() {
    for option in OPTIONS {
        let name = option.name;
        for value in [
            json!(null),
            json!(-1),
            json!(1.5),
            json!({}),
            json!([]),
            json!([1]),
            json!([""]),
            json!(""),
            json!("\u{1}\u{2}"),
        ] {
            // A JWK set may come as a string; what is in it is then wrong.
            let message = refused(|c| c[name] = value.clone());
            let any_text =
                ["issuer", "unauthorized_error_message", "forbidden_error_message", "ssl_trusted_certificate"];
            let harmless = match &value {
                Value::String(s) => name == "introspection_hint" || (any_text.contains(&name) && !s.is_empty()),
                _ => false,
            };
            let names_itself = message.starts_with(&format!("{name}: ")) || message.starts_with(&format!("{name}["));
            // A client that proves nothing is refused for that.
            let names_itself = names_itself || (name == "client_id" && message.starts_with("client_auth: "));
            assert!(harmless || names_itself, "{name} {value}: {message}");
        }
    }
}

fn set(change: impl FnOnce(&mut Value), settings: &[(&str, &str)]) -> String {
    let settings: Vec<Setting<'_>> =
        settings.iter().map(|&(name, value)| Setting { name, value, is_default: false }).collect();
    match Engine::with_settings(&config(change), &settings) {
        Ok(_) => "accepted".to_owned(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn a_setting_is_an_array_where_its_option_is_one_and_else_it_is_set_once() {
    for option in OPTIONS {
        let is_array = option.kind.starts_with("array");
        let once = set(|c| without(c, option.name), &[(option.name, "x")]);
        assert!(!once.contains("must be an array"), "{once}");
        // Its type is that of another option, by name.
        assert!(!option.kind.starts_with("as ") || option.kind == "as `client_auth`", "{}", option.kind);
        if !option.kind.starts_with("boolean") && !option.kind.starts_with("number") {
            let twice = set(|c| without(c, option.name), &[(option.name, "x"), (option.name, "y")]);
            assert_eq!(twice == format!("{}: is set twice", option.name), !is_array, "{twice}");
        }
    }
}

#[test]
fn a_setting_is_held_to_what_its_option_is() {
    for (name, good, bad, message) in [
        ("leeway", "60", "61", "leeway: must be a whole number from 0 to 60"),
        ("leeway", "0", "-1", "leeway: must be a whole number from 0 to 60"),
        ("leeway", "1", "1s", "leeway: must be a number, seconds, 0 to 60"),
        ("hide_credentials", "false", "off", "hide_credentials: must be a boolean"),
        ("proof_of_possession_mtls", "off", "of", "proof_of_possession_mtls: must be strict, optional or off"),
        ("realm", "a b", "a\"b", "realm: "),
        ("audience_required", "a", "", "audience_required: an entry holds no word"),
        ("leeway", "1", "", "leeway: must be a number, seconds, 0 to 60"),
    ] {
        assert_eq!(set(|_| {}, &[(name, good)]), "accepted", "{name} {good}");
        let refused = set(|_| {}, &[(name, bad)]);
        assert!(refused.starts_with(message), "{name} {bad}: {refused}");
    }
    assert_eq!(
        set(|_| {}, &[("scope_required", "a")]),
        "scope_required: unknown option; did you mean scopes_required?"
    );
}

#[test]
fn an_unknown_option_is_refused_with_the_nearest_name() {
    assert_eq!(
        refused(|c| c["proof_of_posession_mtls"] = "off".into()),
        "proof_of_posession_mtls: unknown option; did you mean proof_of_possession_mtls?"
    );
    assert_eq!(
        refused(|c| c["scope_required"] = json!(["a"])),
        "scope_required: unknown option; did you mean scopes_required?"
    );
    assert!(refused(|c| c["zzz"] = 1.into()).starts_with("zzz: unknown option; the options are issuer, jwks"));
}

#[test]
fn rfc8725_3_9_a_a_configuration_without_a_check_does_not_load() {
    for (name, why) in [("issuer", "required"), ("jwks", "required"), ("audience_required", "insecure_any_audience")] {
        let message = refused(|c| without(c, name));
        assert!(message.starts_with(name) && message.contains(why), "{message}");
    }
    assert!(refused(|c| c["insecure_any_audience"] = true.into()).contains("contradicts"));
    for required in ["audience_required", "scopes_required", "groups_required", "roles_required"] {
        assert!(refused(|c| c[required] = json!([" "])).starts_with(required));
    }
    assert!(refused(|c| c["scopes_claim"] = json!(["scp"])).contains("no effect"));
    assert!(refused(|c| c["algorithms"] = json!(["none"])).contains("RS256"));
    assert!(refused(|c| c["algorithms"] = json!(["HS256"])).contains("EdDSA"));
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    assert_eq!(refused(|c| c["leeway"] = 60.into()), "accepted");
    assert_eq!(refused(|c| c["leeway"] = json!(5.0)), "accepted");
    assert!(refused(|c| c["leeway"] = 61.into()).contains("0 to 60"));
    assert!(refused(|c| c["token_cache_entries"] = 1_000_001.into()).contains("0 to 1000000"));
    assert!(refused(|c| c["proof_of_possession_mtls"] = "on".into()).contains("strict, optional or off"));
    assert!(refused(|c| c["token_types"] = json!(["jwt"])).contains("at+jwt, JWT, none"));
    assert_eq!(refused(|c| c["realm"] = "r".repeat(1000).into()), "accepted");
    assert!(refused(|c| c["realm"] = "r".repeat(512 * 1024).into()).contains("larger than 524288 bytes"));
}

#[test]
fn rfc6750_3_b_what_goes_into_the_challenge_is_checked_at_load() {
    for realm in ["a\"b", "a\\b", "a\nb", "é"] {
        assert!(refused(|c| c["realm"] = realm.into()).starts_with("realm: "), "{realm:?}");
    }
    for scope in ["a\"", "a\\", "é", "a\u{7f}"] {
        assert!(refused(|c| c["scopes_required"] = json!([scope])).starts_with("scopes_required: "), "{scope:?}");
    }
}

#[test]
fn upstream_headers_are_names_once_each_and_never_those_of_the_protocol() {
    let with = |claims: Value, names: Value| {
        refused(|c| {
            c["upstream_headers_claims"] = claims;
            c["upstream_headers_names"] = names;
        })
    };
    assert_eq!(with(json!(["sub", ["a", "b"]]), json!(["X-Sub", "X-B"])), "accepted");
    assert!(with(json!(["sub"]), json!(["X-Sub", "X-B"])).contains("one name for each"));
    assert!(with(json!(["a", "b"]), json!(["X-A", "x-a"])).contains("twice"));
    for name in [
        "X A",
        "X_A",
        "X:A",
        "X\r\nA",
        "Authorization",
        "HOST",
        "Connection",
        "content-length",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Expect",
        "Cookie",
    ] {
        assert!(with(json!(["a"]), json!([name])).starts_with("upstream_headers_names: "), "{name:?}");
    }
}

#[test]
fn downstream_headers_are_held_to_the_same_rules() {
    let with = |claims: Value, names: Value| {
        refused(|c| {
            c["downstream_headers_claims"] = claims;
            c["downstream_headers_names"] = names;
        })
    };
    assert_eq!(with(json!(["sub", ["a", "b"]]), json!(["X-Sub", "Expect"])), "accepted");
    assert!(with(json!(["sub"]), json!(["X-Sub", "X-B"])).contains("one name for each"));
    assert!(with(json!(["a", "b"]), json!(["X-A", "x-a"])).contains("twice"));
    let many = |n: usize| (0..n).map(|i| format!("X-{i}")).collect::<Value>();
    assert_eq!(with(many(32), many(32)), "accepted");
    assert!(with(many(33), many(33)).contains("at most 32"));
    for name in [
        "X A",
        "X_A",
        "X\r\nA",
        "Connection",
        "Keep-Alive",
        "content-length",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Transfer-Encoding",
        "Trailer",
        "Upgrade",
        "TE",
        "Set-Cookie",
        "WWW-Authenticate",
        "Proxy-Authenticate",
        "Proxy-Connection",
        "Location",
    ] {
        assert!(with(json!(["a"]), json!([name])).starts_with("downstream_headers_names: "), "{name:?}");
    }
}

/// A host whose schema has strings only gives an entry that is none as its JSON.
#[test]
fn an_entry_that_is_an_array_may_be_a_string_of_its_json() {
    for name in ["audience_required", "scopes_required", "groups_required", "roles_required"] {
        let with = |entries: Value| refused(|c| c[name] = entries);
        assert_eq!(with(json!([["x", "y"], "a b"])), "accepted", "{name}");
        assert_eq!(with(json!([r#"["x","y"]"#, "a b"])), "accepted", "{name}");
        assert!(with(json!(["a", "[\"b\""])).starts_with(&format!("{name}[1]: not valid JSON at line 1")), "{name}");
        assert!(with(json!(["[1]"])).starts_with(&format!("{name}: must be an array")), "{name}");
        assert!(with(json!(["[]"])).starts_with(&format!("{name}: must be an array")), "{name}");
        assert!(with(json!([r#"["a",["b"]]"#])).starts_with(&format!("{name}: must be an array")), "{name}");
    }
    for direction in ["upstream", "downstream"] {
        let (claims, names) = (format!("{direction}_headers_claims"), format!("{direction}_headers_names"));
        let with = |entries: Value| {
            refused(|c| {
                c[&claims] = entries;
                c[&names] = json!(["X-A"]);
            })
        };
        assert_eq!(with(json!([["realm_access", "roles"]])), "accepted");
        assert_eq!(with(json!([r#"["realm_access","roles"]"#])), "accepted");
        assert!(with(json!(["["])).starts_with(&format!("{claims}[0]: not valid JSON at line 1")));
        assert!(with(json!(["[\"\"]"])).starts_with(&format!("{claims}: must be an array of claim names")));
    }
}

#[test]
fn the_words_of_a_string_of_json_are_those_of_the_array() {
    let decide = |entry: Value| {
        let engine = Verifier::new(&config(|c| c["groups_required"] = json!([entry]))).expect("accepted");
        let token = common::mint("ES256", |c| c["groups"] = json!(["Domain Admins"]));
        let certificate = keybound::cert::ClientCertificate::Der(common::CLIENT_A);
        engine.verify(token.as_bytes(), certificate, common::NOW).map(|_| ())
    };
    assert_eq!(decide(json!(["Domain Admins"])), Ok(()));
    assert_eq!(decide(json!(r#"["Domain Admins"]"#)), Ok(()));
    assert_eq!(decide(json!("Domain Admins")), Err(keybound::Reason::InsufficientGroups));
    assert_eq!(decide(json!(r#"["Domain","Admins"]"#)), Err(keybound::Reason::InsufficientGroups));
}

#[test]
fn an_issuer_that_is_an_object_may_be_a_string_of_its_json() {
    let jwks = common::jwks();
    let with = |entries: Value| refused(|c| c["issuers_allowed"] = entries);
    let object = json!({"issuer": "https://other.test", "jwks": jwks});
    assert_eq!(with(json!([object])), "accepted");
    assert_eq!(with(json!([object.to_string()])), "accepted");
    assert!(with(json!([object, object.to_string()])).starts_with("issuers_allowed[1].issuer: occurs twice"));
    assert!(with(json!([object, "{\"issuer\":"])).starts_with("issuers_allowed[1]: not valid JSON at line 1"));
    assert!(with(json!(["{}"])).starts_with("issuers_allowed[0].issuer: required"));
    assert!(with(json!([r#"{"isuer":"a"}"#])).starts_with("issuers_allowed[0].isuer: unknown option"));
    assert!(with(json!([r#"{"issuer":"a","issuer":"b"}"#])).starts_with("issuers_allowed[0]: must be an issuer"));
    // In it, too, what is an array may be a string.
    let nested = json!({"issuer": "https://other.test", "jwks": jwks.to_string(), "audience_required": ["[\"a b\"]"]});
    assert_eq!(with(json!([nested.to_string()])), "accepted");
}

#[test]
fn the_client_may_come_in_arrays_of_one() {
    let client = |options: Value| {
        let changed = config(|c| {
            for (name, value) in options.as_object().expect("object") {
                c[name] = value.clone();
            }
        });
        keybound::Engine::new(&changed).map_or_else(|e| e.to_string(), |_| "accepted".to_owned())
    };
    let jwk: Value = serde_json::from_str(include_str!("common/keys/p256.jwk")).expect("a JWK");
    let with = |id: Value, auth: Value, secret: Value, jwk: Value, alg: Value| {
        client(json!({
            "client_id": id, "client_auth": auth, "client_secret": secret, "client_jwk": jwk, "client_alg": alg,
            "introspection_endpoint": "https://as.test/i", "token_endpoint": "https://as.test/t",
            "revocation_endpoint": "https://as.test/r",
        }))
    };
    let (auth, alg) = ("private_key_jwt", "ES256");
    assert_eq!(with("gw".into(), auth.into(), "s".into(), jwk.clone(), alg.into()), "accepted");
    assert_eq!(with(json!(["gw"]), json!([auth]), json!(["s"]), json!([jwk]), json!([alg])), "accepted");
    assert_eq!(with(json!(["gw"]), json!([auth]), json!(["s"]), json!([jwk.to_string()]), json!([alg])), "accepted");
    for name in ["client_id", "client_auth", "client_secret", "client_jwk", "client_alg"] {
        let issuer = |value: Value| {
            let mut object = json!({"issuer": "https://o.test"});
            object[name] = value;
            client(json!({"issuers_allowed": [object]}))
        };
        for wrong in [json!(["a", "b"]), json!([])] {
            let what = "an array must have exactly one entry: keybound has one client for each issuer (issuers_allowed has others)";
            let mut options = json!({});
            options[name] = wrong.clone();
            assert_eq!(client(options), format!("{name}: {what}"));
            assert_eq!(issuer(wrong), format!("issuers_allowed[0].{name}: {what}"));
        }
        let mut options = json!({});
        options[name] = json!([["a"]]);
        assert!(client(options).starts_with("client_"), "{name}");
    }
    assert_eq!(client(json!({"client_id": [["a"]]})), "client_id: must be a string, not an array");
    // No other option may.
    assert_eq!(client(json!({"realm": ["r"]})), "realm: must be a string, not an array");
}

#[test]
fn rfc8414_2_a_the_url_of_metadata_is_no_issuer() {
    const MESSAGE: &str = "is the issuer identifier, not the URL of its metadata";
    for path in ["/.well-known/openid-configuration", "/realms/x/.well-known/oauth-authorization-server"] {
        let url = format!("https://as.test{path}");
        assert_eq!(refused(|c| c["issuer"] = url.clone().into()), format!("issuer: {MESSAGE}"));
        let other = format!("issuers_allowed[0].issuer: {MESSAGE}");
        assert_eq!(refused(|c| c["issuers_allowed"] = json!([url])), other);
        assert_eq!(refused(|c| c["issuers_allowed"] = json!([{"issuer": url}])), other);
    }
    assert_eq!(refused(|c| c["issuer"] = "https://as.test/realms/well-known/x".into()), "accepted");
}

#[test]
fn a_method_whose_token_is_not_the_clients_goes_with_proof_of_possession_by_name_only() {
    const VALIDATION: &str = "proof_of_possession_auth_methods_validation";
    let with = |methods: &[&str], more: Value| {
        let refusal = refused(|c| {
            c["client_id"] = "gateway".into();
            c["client_secret"] = "secret".into();
            c["auth_methods"] = json!(methods);
            for (name, value) in more.as_object().expect("object") {
                c[name] = value.clone();
            }
        });
        // What a verifier cannot do is accepted as far as methods go.
        if refusal.starts_with("auth_methods: asks for sessions") { "accepted".to_owned() } else { refusal }
    };
    for method in ["password", "client_credentials", "refresh_token"] {
        for (mode, accepted) in [("strict", false), ("optional", false), ("off", true)] {
            let answer = with(&["bearer", method], json!({"proof_of_possession_mtls": mode}));
            let expected = format!("auth_methods: {method} is not compatible with proof of possession: ");
            assert!(if accepted { answer == "accepted" } else { answer.starts_with(&expected) }, "{answer}");
        }
        assert_eq!(with(&["bearer", method], json!({VALIDATION: false})), "accepted");
    }
    let code = |more: Value| {
        let mut options = json!({
            "session_secret": "0123456789abcdef0123456789abcdef", "store_secret": "0123456789abcdef0123456789abcdef",
            "redirect_uri": "https://api.test/callback",
        });
        for (name, value) in more.as_object().expect("object") {
            options[name] = value.clone();
        }
        with(&["session", "authorization_code"], options)
    };
    assert!(code(json!({})).starts_with("session_bind_certificate: must be true for authorization_code"));
    assert_eq!(code(json!({"session_bind_certificate": true})), "accepted");
    assert_eq!(code(json!({"proof_of_possession_mtls": "off"})), "accepted");
    assert_eq!(code(json!({VALIDATION: false})), "accepted");
    let names = "session, bearer, introspection, refresh_token, password, client_credentials, authorization_code";
    for method in ["userinfo", "kong_oauth2", "sesion"] {
        assert_eq!(with(&[method], json!({})), format!("auth_methods: must be of {names}"));
    }
}

/// What an engine says of a gateway with sessions, bearer tokens and logins, changed by `change`.
fn login(change: impl FnOnce(&mut Value)) -> String {
    let changed = config(|c| {
        for (name, value) in json!({
            "auth_methods": ["session", "bearer", "authorization_code"], "client_id": "gateway", "client_secret": "secret",
            "session_secret": SECRET, "store_secret": SECRET, "redirect_uri": "https://api.test/callback",
            "session_bind_certificate": true,
        })
        .as_object()
        .expect("object")
        {
            c[name] = value.clone();
        }
        change(c);
    });
    keybound::Engine::new(&changed).map_or_else(|e| e.to_string(), |_| "accepted".to_owned())
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn which_methods_go_together() {
    let methods = |methods: Value| {
        login(|c| {
            c["auth_methods"] = methods;
            c["proof_of_possession_mtls"] = "off".into();
            without(c, "redirect_uri");
        })
    };
    assert_eq!(login(|_| {}), "accepted");
    assert_eq!(methods(json!(["session", "bearer"])), "accepted");
    assert_eq!(methods(json!(["session", "password"])), "accepted");
    assert_eq!(
        methods(json!(["bearer", "authorization_code"])),
        "auth_methods: authorization_code needs session: a login is remembered in one"
    );
    assert_eq!(methods(json!(["session"])), "auth_methods: session needs another method, which begins sessions");
    let message = "client_credentials_param_type: the header can be of one method only: with password, too, one of them must be taken \
                   from the body";
    let both = |password: Value, client: Value| {
        login(|c| {
            c["auth_methods"] = json!(["session", "password", "client_credentials"]);
            c["proof_of_possession_mtls"] = "off".into();
            without(c, "redirect_uri");
            c["password_param_type"] = password;
            c["client_credentials_param_type"] = client;
        })
    };
    let (header, body) = (json!(["header"]), json!(["body"]));
    assert_eq!(methods(json!(["session", "password", "client_credentials"])), message);
    assert_eq!(both(json!(["body", "header"]), header.clone()), message);
    assert_eq!(both(body.clone(), header.clone()), "accepted");
    assert_eq!(both(header, body.clone()), "accepted");
    // Their names for the two differ.
    assert_eq!(both(body.clone(), body), "accepted");
}

#[test]
fn what_logins_and_grants_need_is_asked_for_by_name() {
    let without_option = |name: &'static str| login(move |c| without(c, name));
    for (name, message) in [
        ("session_secret", "session_secret: required by session in auth_methods (openssl rand -base64 32)"),
        (
            "store_secret",
            "store_secret: required by session in auth_methods: without a shared store workers would refresh a token twice, and a login \
             could come back twice",
        ),
        (
            "redirect_uri",
            "redirect_uri: required by authorization_code: where the authorization server sends browsers back to",
        ),
    ] {
        assert_eq!(without_option(name), message);
    }
    let client = "client_id: required for introspection, grants and logins: the gateway has to authenticate (RFC 7662 §2.1, RFC 6749 §2.3)";
    let anonymous = |c: &mut Value| {
        without(c, "client_id");
        without(c, "client_secret");
    };
    assert_eq!(login(anonymous), client);
    let bearer = |more: Value| {
        refused_engine(|c| {
            c["auth_methods"] = json!(["bearer"]);
            for (name, value) in more.as_object().expect("object") {
                c[name] = value.clone();
            }
        })
    };
    assert_eq!(bearer(json!({"upstream_client_credentials": true})), client);
    assert_eq!(
        bearer(json!({"upstream_client_credentials": true, "client_id": "gateway", "client_secret": "secret"})),
        "accepted"
    );
}

fn refused_engine(change: impl FnOnce(&mut Value)) -> String {
    keybound::Engine::new(&config(change)).map_or_else(|e| e.to_string(), |_| "accepted".to_owned())
}

#[test]
fn secrets_of_sessions_are_long_and_few() {
    let short = "must have at least 32 characters (openssl rand -base64 32)";
    assert_eq!(login(|c| c["session_secret"] = SECRET[..31].into()), format!("session_secret: {short}"));
    let previous = |secrets: Value| login(|c| c["session_previous_secrets"] = secrets);
    assert_eq!(previous(json!([SECRET, SECRET])), "accepted");
    assert_eq!(previous(json!([SECRET, &SECRET[..31]])), format!("session_previous_secrets: {short}"));
    assert_eq!(previous(json!(vec![SECRET; 7])), "accepted");
    assert_eq!(previous(json!(vec![SECRET; 8])), "session_previous_secrets: at most 7 entries");
}

#[test]
fn an_option_of_what_is_not_configured_is_refused() {
    let cases = [
        ("session_secret", json!(SECRET), "session in auth_methods"),
        ("session_previous_secrets", json!([SECRET]), "session in auth_methods"),
        ("session_audience", json!("a"), "session in auth_methods"),
        ("session_storage", json!("store"), "session in auth_methods"),
        ("session_cookie_name", json!("a"), "session in auth_methods"),
        ("session_cookie_same_site", json!("Lax"), "session in auth_methods"),
        ("session_rolling_timeout", json!(1), "session in auth_methods"),
        ("session_idling_timeout", json!(1), "session in auth_methods"),
        ("session_absolute_timeout", json!(1), "session in auth_methods"),
        ("session_bind_certificate", json!(true), "session in auth_methods"),
        ("disable_session", json!(["bearer"]), "session in auth_methods"),
        ("refresh_tokens", json!(true), "session in auth_methods"),
        ("refresh_margin", json!(1), "session in auth_methods"),
        ("end_session_endpoint", json!("https://as.test/x"), "session in auth_methods"),
        ("logout_uri_suffix", json!("/logout"), "session in auth_methods"),
        ("logout_methods", json!(["GET"]), "session in auth_methods"),
        ("logout_revoke", json!(true), "session in auth_methods"),
        ("logout_revoke_access_token", json!(true), "session in auth_methods"),
        ("logout_revoke_refresh_token", json!(true), "session in auth_methods"),
        ("logout_redirect_uri", json!("https://api.test/"), "session in auth_methods"),
        ("redirect_uri", json!("https://api.test/callback"), "authorization_code in auth_methods"),
        ("login_timeout", json!(60), "authorization_code in auth_methods"),
        ("authorization_endpoint", json!("https://as.test/x"), "authorization_code in auth_methods"),
        ("authorization_query_args_names", json!(["a"]), "authorization_code in auth_methods"),
        ("authorization_query_args_values", json!(["a"]), "authorization_code in auth_methods"),
        ("pushed_authorization_request_endpoint", json!("https://as.test/x"), "authorization_code in auth_methods"),
        ("require_pushed_authorization_requests", json!(true), "authorization_code in auth_methods"),
        ("scopes", json!(["a"]), "a grant in auth_methods"),
        ("token_post_args_names", json!(["a"]), "a grant in auth_methods"),
        ("token_post_args_values", json!(["a"]), "a grant in auth_methods"),
    ];
    for (name, value, what) in cases {
        assert_eq!(refused_engine(|c| c[name] = value), format!("{name}: has no effect without {what}"));
    }
    for name in ["password_param_type", "client_credentials_param_type"] {
        let message = refused_engine(|c| c[name] = json!(["header"]));
        assert_eq!(message, format!("{name}: has no effect: auth_methods has no such method"));
    }
    let arguments = |values: Value| {
        refused_engine(|c| {
            c["upstream_client_credentials_args_names"] = json!(["scope"]);
            c["upstream_client_credentials_args_values"] = values;
        })
    };
    assert_eq!(
        arguments(json!(["a"])),
        "upstream_client_credentials_args_names: has no effect without upstream_client_credentials"
    );
    assert_eq!(
        arguments(json!(["a", "b"])),
        "upstream_client_credentials_args_values: must have one value for each entry of upstream_client_credentials_args_names"
    );
    for (name, value) in [
        ("end_session_endpoint", json!("https://as.test/x")),
        ("logout_methods", json!(["GET"])),
        ("logout_revoke", json!(false)),
        ("logout_redirect_uri", json!("https://api.test/")),
    ] {
        let with = |suffix: bool| {
            login(|c| {
                c[name] = value.clone();
                if suffix {
                    c["logout_uri_suffix"] = "/logout".into();
                }
            })
        };
        assert_eq!(with(false), format!("{name}: has no effect without logout_uri_suffix"));
        assert_eq!(with(true), "accepted");
    }
}

#[test]
fn a_login_cannot_only_be_reported() {
    let message = "report_only: contradicts auth_methods and upstream_client_credentials: a login or a grant cannot only be reported";
    assert_eq!(login(|c| c["report_only"] = true.into()), message);
    assert_eq!(login(|c| c["report_only"] = false.into()), "accepted");
    let upstream = refused_engine(|c| {
        c["report_only"] = true.into();
        c["upstream_client_credentials"] = true.into();
        c["client_id"] = "gateway".into();
        c["client_secret"] = "secret".into();
    });
    assert_eq!(upstream, message);
    assert_eq!(refused_engine(|c| c["report_only"] = true.into()), "accepted");
}

#[test]
fn the_values_of_sessions_and_logins_are_checked_at_load() {
    let cookie = "session_cookie_name: must be a token (RFC 6265 §4.1.1) of at most 64 characters; browsers keep __Host- cookies for one \
                  host alone";
    let redirect = "redirect_uri: must be an https URL with a path of its own, without query and fragment";
    let logout = "logout_uri_suffix: must begin with a slash, and have no query";
    let scope = "scopes: a scope is made of printable ASCII without space, quote and backslash (RFC 6749 §3.3)";
    let url = "must be an https URL (RFC 7662 §2, RFC 8414 §2)";
    let strict = "session_cookie_same_site: Strict contradicts authorization_code: a browser that comes back from the authorization server would \
                  not send the cookie";
    let long = "x".repeat(64);
    let too_long = "x".repeat(65);
    for (name, value, message) in [
        ("session_cookie_name", json!("__Secure-a!#$%&'*+-.^_`|~9"), "accepted"),
        ("session_cookie_name", json!(long), "accepted"),
        ("session_cookie_name", json!(too_long), cookie),
        ("session_cookie_name", json!("a b"), cookie),
        ("session_cookie_name", json!("a=b"), cookie),
        ("session_cookie_name", json!("a;b"), cookie),
        ("session_cookie_name", json!("\u{e4}"), cookie),
        ("session_cookie_same_site", json!("None"), "accepted"),
        ("session_cookie_same_site", json!("lax"), "session_cookie_same_site: must be Strict, Lax or None"),
        ("session_cookie_same_site", json!("Strict"), strict),
        ("session_storage", json!("cookie"), "accepted"),
        (
            "session_storage",
            json!("redis"),
            "session_storage: must be cookie, or store: the shared store of the host, a Redis for example",
        ),
        ("session_idling_timeout", json!(0), "accepted"),
        ("session_idling_timeout", json!(-1), "session_idling_timeout: must be a whole number from 0 to 31536000"),
        (
            "session_rolling_timeout",
            json!(31_536_001),
            "session_rolling_timeout: must be a whole number from 0 to 31536000",
        ),
        ("session_absolute_timeout", json!("1"), "session_absolute_timeout: must be a whole number from 0 to 31536000"),
        ("disable_session", json!(["bearer"]), "accepted"),
        ("disable_session", json!(["bearer", "password"]), "disable_session: password is not in auth_methods"),
        (
            "disable_session",
            json!(["session"]),
            "disable_session: authorization_code needs its session, and session begins none",
        ),
        ("disable_session", json!(["cookie"]), "disable_session: must be of the methods of auth_methods"),
        (
            "disable_session",
            json!(["authorization_code"]),
            "disable_session: authorization_code needs its session, and session begins none",
        ),
        ("refresh_margin", json!(3601), "refresh_margin: must be a whole number from 0 to 3600"),
        ("login_timeout", json!(59), "login_timeout: must be a whole number from 60 to 3600"),
        ("redirect_uri", json!("https://api.test:8443/a/b"), "accepted"),
        ("redirect_uri", json!(["https://api.test/callback"]), "accepted"),
        ("redirect_uri", json!("http://api.test/callback"), redirect),
        ("redirect_uri", json!("https://api.test/"), redirect),
        ("redirect_uri", json!("https://api.test"), redirect),
        ("redirect_uri", json!("https://api.test/callback?a=b"), redirect),
        ("redirect_uri", json!("https://api.test/callback?"), redirect),
        ("redirect_uri", json!("https://api.test/callback#x"), redirect),
        ("redirect_uri", json!("/callback"), redirect),
        ("authorization_endpoint", json!("http://as.test/x"), &format!("authorization_endpoint: {url}")),
        ("pushed_authorization_request_endpoint", json!("x"), &format!("pushed_authorization_request_endpoint: {url}")),
        ("scopes", json!(["openid", "https://api.test/read"]), "accepted"),
        ("scopes", json!(["read"]), "scopes: must hold openid: without an ID token nobody knows for whom a login was"),
        ("scopes", json!(["openid", "a b"]), scope),
        ("scopes", json!(["openid", "a\"b"]), scope),
        ("scopes", json!(["openid", "a\\b"]), scope),
        ("scopes", json!(["openid", "\u{e4}"]), scope),
        ("logout_uri_suffix", json!("/a/logout"), "accepted"),
        ("logout_uri_suffix", json!("logout"), logout),
        ("logout_uri_suffix", json!("/logout?x"), logout),
        ("logout_uri_suffix", json!("/logout#x"), logout),
    ] {
        assert_eq!(login(|c| c[name] = value.clone()), message, "{value}");
    }
    let with_logout = |name: &'static str, value: Value| {
        login(|c| {
            c["logout_uri_suffix"] = "/logout".into();
            c[name] = value;
        })
    };
    assert_eq!(with_logout("logout_methods", json!(["PUT"])), "logout_methods: must be of GET, POST, DELETE");
    assert_eq!(with_logout("logout_methods", json!(["GET", "POST", "DELETE"])), "accepted");
    assert_eq!(with_logout("logout_redirect_uri", json!("http://a.test/")), format!("logout_redirect_uri: {url}"));
    assert_eq!(with_logout("logout_redirect_uri", json!(["https://a.test/"])), "accepted");
    assert_eq!(with_logout("end_session_endpoint", json!("x")), format!("end_session_endpoint: {url}"));
    let places = login(|c| {
        c["auth_methods"] = json!(["password"]);
        c["proof_of_possession_mtls"] = "off".into();
        for name in ["session_secret", "session_bind_certificate", "redirect_uri"] {
            without(c, name);
        }
        c["password_param_type"] = json!(["query"]);
    });
    assert_eq!(places, "password_param_type: must be of header, body: what is in a query is in logs");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let hidden = |hide: bool, own: bool| {
        login(|c| {
            c["hide_credentials"] = hide.into();
            c["upstream_client_credentials"] = own.into();
        })
    };
    assert_eq!(hidden(true, true), "hide_credentials: contradicts upstream_client_credentials");
    assert_eq!([hidden(true, false), hidden(false, true)], ["accepted", "accepted"]);
    let strict = login(|c| {
        c["auth_methods"] = json!(["session", "bearer"]);
        c["session_cookie_same_site"] = "Strict".into();
        without(c, "redirect_uri");
    });
    assert_eq!(strict, "accepted");
    let issuer = login(|c| {
        c["issuer"] = "as".into();
        for name in ["token", "introspection", "revocation"] {
            c[format!("{name}_endpoint")] = "https://as.test/x".into();
        }
    });
    assert_eq!(issuer, "issuer: must be an https URL without query: authorization_code needs its metadata");
}

#[test]
fn nobody_sets_a_parameter_that_keybound_sets() {
    let with = |option: &str, name: &str| {
        login(|c| {
            c[format!("{option}_names")] = json!(["audience", name]);
            c[format!("{option}_values")] = json!(["a", "b"]);
            if option.starts_with("upstream") {
                c["upstream_client_credentials"] = true.into();
            }
        })
    };
    const OPTIONS: [&str; 3] = ["authorization_query_args", "token_post_args", "upstream_client_credentials_args"];
    for option in OPTIONS {
        for name in [
            "response_type",
            "response_mode",
            "client_id",
            "client_secret",
            "client_assertion",
            "client_assertion_type",
            "redirect_uri",
            "state",
            "nonce",
            "code_challenge",
            "code_challenge_method",
            "code_verifier",
            "code",
            "grant_type",
            "refresh_token",
            "username",
            "password",
            "request",
            "request_uri",
            "token",
            "token_type_hint",
            "dpop_jkt",
        ] {
            assert_eq!(with(option, name), format!("{option}_names: {name} is set by keybound itself"));
        }
        for name in ["resource", "prompt", "State"] {
            assert_eq!(with(option, name), "accepted");
        }
        // The scope of logins is an option of its own; that of the gateway's token is not.
        let scope = with(option, "scope");
        let expected = format!("{option}_names: scope is set by keybound itself");
        assert!(if option.starts_with("upstream") { scope == "accepted" } else { scope == expected }, "{scope}");
    }
}
