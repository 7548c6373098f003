//! A configuration that is wrong, or leaves a check out without saying so by name, is refused with the option's name.

mod common;

use common::{config, without};
use keybound::Verifier;
use keybound::engine::OPTIONS;
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
