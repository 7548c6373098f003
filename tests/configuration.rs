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
fn a_jwk_set_may_be_a_string_of_json() {
    assert_eq!(refused(|c| c["jwks"] = c["jwks"].to_string().into()), "accepted");
    assert!(refused(|c| c["jwks"] = "{}".into()).starts_with("jwks: "));
    assert!(refused(|c| c["jwks"] = json!({"keys": []})).contains("no usable key"));
}

#[test]
fn what_is_no_object_is_no_configuration() {
    for text in ["", "null", "[]", "{", "{}{}", "{\"issuer\":\"a\",\"issuer\":\"b\"}"] {
        let message = Verifier::new(text.as_bytes()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("not a JSON object"), "{text}: {message}");
    }
}

#[test]
fn what_would_have_no_effect_or_leave_a_check_out_is_refused() {
    let engine = |change: &dyn Fn(&mut Value)| match keybound::Engine::new(&config(|c| {
        c["client_id"] = "gateway".into();
        c["client_secret"] = "secret".into();
        change(c);
    })) {
        Ok(_) => "accepted".to_owned(),
        Err(e) => e.to_string(),
    };
    assert_eq!(engine(&|_| {}), "accepted");
    for (change, message) in [
        (
            &(|c: &mut Value| {
                c["introspect_jwt_tokens"] = true.into();
                c["issuers_allowed"] = json!(["https://other.test"]);
            }) as &dyn Fn(&mut Value),
            "introspect_jwt_tokens: the issuer https://other.test has no client_id",
        ),
        (
            &|c| {
                c["auth_methods"] = json!(["introspection"]);
                c["introspect_jwt_tokens"] = true.into();
            },
            "introspect_jwt_tokens: needs bearer",
        ),
        (
            &|c| {
                c["auth_methods"] = json!(["introspection"]);
                c["issuers_allowed"] = json!(["https://other.test"]);
            },
            "issuers_allowed: needs bearer",
        ),
        (
            &|c| {
                c["auth_methods"] = json!(["bearer"]);
                c["introspection_cache_ttl"] = 5.into();
            },
            "introspection_cache_ttl: has no effect",
        ),
        (
            &|c| c["issuers_allowed"] = json!([{"issuer": "https://other.test", "audience_claim": ["aud2"]}]),
            "issuers_allowed[0].audience_claim: has no effect without audience_required",
        ),
        (
            &|c| {
                c["client_auth"] = "private_key_jwt".into();
                c["client_jwk"] = include_str!("common/keys/p256.jwk").into();
                c["client_alg"] = "HS256".into();
            },
            "client_alg: HS256 is for client_secret_jwt",
        ),
        (
            &|c| c["tls_client_auth_cert_id"] = "gw".into(),
            "tls_client_auth_cert_id: must be a name in client_certificates",
        ),
        (&|c| c["client_auth"] = "tls_client_auth".into(), "tls_client_auth_cert_id: required by tls_client_auth"),
        (&|c| c["client_auth"] = "private_key_jwt".into(), "client_jwk: required by private_key_jwt"),
        (
            &|c| c["client_auth"] = "client_secret_jwt".into(),
            "client_secret: client_secret_jwt needs one of at least 32 octets",
        ),
        (&|c| c["client_auth"] = "basic".into(), "client_auth: must be tls_client_auth, "),
        (&|c| c["introspection_endpoint"] = "http://as.test/i".into(), "introspection_endpoint: must be an https URL"),
        (
            &|c| c["mtls_introspection_endpoint"] = "https://as.test/i".into(),
            "mtls_introspection_endpoint: has no effect",
        ),
        (
            &|c| c["issuers_allowed"] = json!([{"issuer": "https://o.test", "realm": "x"}]),
            "issuers_allowed[0].realm: unknown option",
        ),
        (
            &|c| c["issuers_allowed"] = json!(["https://o.test", "https://o.test"]),
            "issuers_allowed[1].issuer: occurs twice",
        ),
        (&|c| c["endpoint_hosts"] = json!(["https://o.test"]), "endpoint_hosts: must be host names"),
        (&|c| c["introspection_headers_names"] = json!(["X"]), "introspection_headers_values: must have one value"),
        (
            &|c| {
                c["introspection_post_args_names"] = json!(["token"]);
                c["introspection_post_args_values"] = json!(["x"]);
            },
            "introspection_post_args_names: token is set by keybound itself",
        ),
        (&|c| c["keys_max_stale"] = 10.into(), "keys_max_stale: must not be less than keys_max_age"),
        (
            &|c| c["client_certificates"] = json!({"a": {"certificate": "x", "private_key": "y"}}),
            "client_certificates: a is not used",
        ),
    ] {
        let said = engine(change);
        assert!(said.starts_with(message), "{said}");
    }
    for (name, value) in [("introspect_jwt_tokens", json!(true)), ("auth_methods", json!(["introspection"]))] {
        let message = refused(|c| {
            c["client_id"] = "gateway".into();
            c["client_secret"] = "secret".into();
            c[name] = value;
        });
        assert!(message.starts_with(&format!("{name}: asks for introspection")), "{message}");
    }
}
