//! How a token with a proof is sent, what a refused client is told, and what the upstream gets (RFC 9449 §7).

use std::sync::Arc;

use keybound::cert::ClientCertificate;
use keybound::{Decision, Engine, Reason, Request, Verifier};
use serde_json::{Value, json};

use crate::common::{self, CLIENT_A, NOW, config, mint, without};
use crate::world::{
    Ask, Condition, Key, ORIGIN, SECRET, Seen, World, authorized, bare, decide, engine, engine_with_nonces, proved,
};

fn optional(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine(|c| {
        c["proof_of_possession_dpop"] = "optional".into();
        change(c);
    })
}

/// A good request to this engine.
fn good(engine: &Arc<Engine>) -> Seen {
    let key = Key::new("ES256");
    let token = key.token();
    World::new().ask(engine, &proved(&token, key.proof(&token)))
}

#[test]
fn rfc9449_7_1_b_the_scheme_is_case_insensitive_and_the_token_is_a_token68() {
    let key = Key::new("ES256");
    let token = key.token();
    let with = |authorization: String| decide(&Ask { proofs: vec![key.proof(&token)], ..authorized(authorization) });
    for scheme in ["DPoP", "dpop", "DPOP", "dPoP"] {
        assert_eq!(with(format!("{scheme} {token}")), Reason::Allowed, "{scheme}");
    }
    assert_eq!(with(format!("DPoP   {token}")), Reason::Allowed);
    for bad in [
        "DPoP".to_owned(),
        "DPoP ".into(),
        format!("DPoP\t{token}"),
        format!("DPoP \t{token}"),
        format!("DPoP={token}"),
        format!("DPoP,{token}"),
        format!("DPoP {token} "),
        format!("DPoP {token} {token}"),
        format!("DPoP {token}, DPoP {token}"),
        format!("DPoP {token},Bearer {token}"),
        format!("DPoP token={token}"),
        format!("DPoP \"{token}\""),
        "DPoP =".into(),
    ] {
        assert_eq!(with(bad.clone()), Reason::MalformedAuthorization, "{bad}");
    }
    for none in
        [format!("DPoPx {token}"), format!("DPoP-x {token}"), format!("DPo {token}"), token.clone(), String::new()]
    {
        assert_eq!(with(none.clone()), Reason::NoToken, "{none}");
    }
    assert_eq!(decide(&bare()), Reason::NoToken);
}

#[test]
fn rfc6750_2_a_a_second_token_is_refused_whatever_its_scheme() {
    let key = Key::new("ES256");
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    assert_eq!(decide(&Ask { authorizations: 2, ..ask.clone() }), Reason::SeveralTokens);
    let target = format!("/data?access_token={token}");
    assert_eq!(decide(&Ask { target, ..ask.clone() }), Reason::SeveralTokens);
    assert_eq!(decide(&Ask { target: "/data?a=access_token".into(), ..ask }), Reason::Allowed);
}

#[test]
fn rfc9449_7_a_neither_token_nor_proof_passes_alone() {
    let key = Key::new("ES256");
    let token = key.token();
    assert_eq!(decide(&proved(&token, key.proof(&token))), Reason::Allowed);
    assert_eq!(decide(&authorized(format!("DPoP {token}"))), Reason::ProofMissing);
    assert_eq!(decide(&Ask { proofs: vec![key.proof(&token)], ..bare() }), Reason::NoToken);
}

#[test]
fn rfc9449_7_2_a_a_token_that_is_bound_to_a_key_never_passes_as_bearer() {
    let key = Key::new("ES256");
    let token = key.token();
    for engine in [engine(|_| {}), optional(|_| {})] {
        for proofs in [vec![], vec![key.proof(&token)]] {
            let ask = Ask { proofs, ..authorized(format!("Bearer {token}")) };
            let seen = World::new().ask(&engine, &ask);
            assert_eq!((seen.reason, seen.status, seen.stored.len()), (Reason::DpopSchemeRequired, 401, 0));
        }
        assert_eq!(World::new().decide(&engine, &proved(&token, key.proof(&token))), Reason::Allowed);
        // Nor where a decision is made without steps.
        let authorization = format!("Bearer {token}");
        let request = Request {
            now: NOW,
            authorization: Some(authorization.as_bytes()),
            authorization_count: 1,
            query: b"",
            certificate: ClientCertificate::Absent,
            early_data: false,
            http: None,
        };
        assert_eq!(engine.decide(&request), Decision::Refuse(Reason::DpopSchemeRequired));
    }
}

#[test]
fn a_request_with_the_scheme_dpop_is_never_decided_without_steps() {
    let (key, engine) = (Key::new("ES256"), engine(|_| {}));
    let token = key.token();
    // Remembered, too.
    assert_eq!(World::new().decide(&engine, &proved(&token, key.proof(&token))), Reason::Allowed);
    let authorization = format!("DPoP {token}");
    let request = Request {
        now: NOW,
        authorization: Some(authorization.as_bytes()),
        authorization_count: 1,
        query: b"",
        certificate: ClientCertificate::Absent,
        early_data: false,
        http: None,
    };
    assert_eq!(engine.decide(&request), Decision::Steps);
    // A host that tells nothing of the request gets nothing.
    assert_eq!(engine.begin(&request).reason(), Some(Reason::ProofMissing));
}

#[test]
fn rfc9449_7_2_b_a_token_that_is_not_bound_to_a_key_does_not_pass_with_the_scheme_dpop() {
    let key = Key::new("ES256");
    let unbound = mint("ES256", |c| without(c, "cnf"));
    for engine in [engine(|_| {}), optional(|_| {})] {
        let ask = proved(&unbound, key.proof(&unbound));
        assert_eq!(World::new().decide(&engine, &ask), Reason::TokenNotDpopBound);
    }
    let bearer = authorized(format!("Bearer {unbound}"));
    assert_eq!(World::new().decide(&optional(|_| {}), &bearer), Reason::Allowed);
    assert_eq!(World::new().decide(&engine(|_| {}), &bearer), Reason::TokenNotDpopBound);
}

#[test]
fn in_optional_mode_a_stray_proof_beside_an_unbound_token_is_not_looked_at() {
    let unbound = mint("ES256", |c| without(c, "cnf"));
    let key = Key::new("ES256");
    for proofs in [vec![], vec!["x".to_owned()], vec![key.proof(&unbound)], vec!["x".into(), "y".into()]] {
        let seen = World::new().ask(&optional(|_| {}), &Ask { proofs, ..authorized(format!("Bearer {unbound}")) });
        assert_eq!((seen.reason, seen.stored.len(), seen.upstream.len()), (Reason::Allowed, 0, 0));
    }
}

#[test]
fn rfc8470_5_1_early_data_is_refused_with_425() {
    let key = Key::new("ES256");
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    for engine in [engine(|_| {}), optional(|_| {}), engine_with_nonces(|_| {})] {
        let seen = World::new().ask(&engine, &Ask { early_data: true, ..ask.clone() });
        assert_eq!((seen.reason, seen.status, seen.stored.len()), (Reason::EarlyData, 425, 0));
    }
    assert_eq!(decide(&ask), Reason::Allowed);
}

// --- Challenges

#[test]
fn rfc9449_7_1_c_what_failed_is_told_with_the_algorithms_that_are_accepted() {
    const ALGS: &str = "algs=\"ES256 PS256 EdDSA\"";
    let key = Key::new("ES256");
    let token = key.token();
    let expired = key.token_with(|c| c["exp"] = (NOW - 100).into());
    for (ask, status, error) in [
        (bare(), 401, ""),
        (authorized("Basic YTpi"), 401, ""),
        (proved(&expired, key.proof(&expired)), 401, "error=\"invalid_token\", "),
        (authorized(format!("Bearer {token}")), 401, "error=\"invalid_token\", "),
        (authorized(format!("DPoP {token}")), 401, "error=\"invalid_dpop_proof\", "),
        (proved(&token, "x"), 401, "error=\"invalid_dpop_proof\", "),
        (Ask { authorizations: 2, ..proved(&token, "x") }, 400, "error=\"invalid_request\", "),
    ] {
        let seen = World::new().ask(&engine(|_| {}), &ask);
        assert_eq!((seen.status, &*seen.challenge), (status, &*format!("DPoP {error}{ALGS}")), "{:?}", seen.reason);
    }
    let scoped = engine(|c| {
        c["scopes_required"] = json!(["admin"]);
        c["realm"] = "api".into();
    });
    let seen = good(&scoped);
    let expected = format!("DPoP realm=\"api\", error=\"insufficient_scope\", scope=\"admin\", {ALGS}");
    assert_eq!((seen.status, seen.challenge), (403, expected));
    // 503 and 425 challenge nobody.
    let mut world = World::new();
    world.condition = Condition::IsDown;
    assert_eq!(world.ask(&engine(|_| {}), &proved(&token, key.proof(&token))).challenge, "");
}

#[test]
fn rfc9449_7_2_c_where_both_schemes_are_accepted_both_are_offered_and_the_used_one_tells_what_failed() {
    const ALGS: &str = "algs=\"ES256 PS256 EdDSA\"";
    let key = Key::new("ES256");
    let token = key.token();
    let (bearer_error, proof_error) = ("error=\"invalid_token\"", "error=\"invalid_dpop_proof\"");
    let either = engine(|c| {
        c["proof_of_possession_mtls"] = "strict".into();
        c["proof_of_possession_either"] = true.into();
    });
    for engine in [optional(|_| {}), either] {
        for (ask, expected) in [
            (bare(), format!("Bearer, DPoP {ALGS}")),
            (authorized("Basic YTpi"), format!("Bearer, DPoP {ALGS}")),
            (authorized(format!("Bearer {token}")), format!("Bearer {bearer_error}, DPoP {ALGS}")),
            (authorized(format!("DPoP {token}")), format!("DPoP {proof_error}, {ALGS}, Bearer")),
            (proved(&token, "x"), format!("DPoP {proof_error}, {ALGS}, Bearer")),
        ] {
            let seen = World::new().ask(&engine, &ask);
            assert_eq!((seen.status, &*seen.challenge), (401, &*expected), "{:?}", seen.reason);
        }
    }
    // Both strict: a token that passes comes with a proof.
    let both = engine(|c| c["proof_of_possession_mtls"] = "strict".into());
    assert_eq!(World::new().ask(&both, &bare()).challenge, format!("DPoP {ALGS}"));
    // Without proofs nothing speaks of them.
    let config = config(|_| {});
    let plain = Arc::new(Engine::new(&config).expect("valid"));
    let seen = World::new().ask(&plain, &authorized(format!("DPoP {token}")));
    assert_eq!((seen.reason, &*seen.challenge), (Reason::NoToken, "Bearer"));
}

#[test]
fn expose_error_code_and_display_errors_hold_for_both_schemes() {
    let key = Key::new("ES256");
    let token = key.token();
    let with = |name: &str, value: bool| {
        let engine = engine(|c| c[name] = value.into());
        World::new().ask(&engine, &authorized(format!("DPoP {token}")))
    };
    assert_eq!(with("expose_error_code", false).challenge, "DPoP algs=\"ES256 PS256 EdDSA\"");
    let told = with("display_errors", true);
    assert_eq!(
        told.challenge,
        "DPoP error=\"invalid_dpop_proof\", error_description=\"proof_missing\", algs=\"ES256 PS256 EdDSA\""
    );
    assert!(told.body.contains("proof_missing"));
    let silent = with("display_errors", false);
    assert!(!silent.challenge.contains("proof_missing") && !silent.body.contains("proof_missing"));
}

// --- What goes on

#[test]
fn the_upstream_gets_the_token_as_bearer_and_no_proof() {
    let key = Key::new("ES256");
    let token = key.token();
    let seen = World::new().ask(&engine(|_| {}), &proved(&token, key.proof(&token)));
    assert_eq!(seen.reason, Reason::Allowed);
    assert_eq!(seen.upstream("authorization"), Some(Some(&*format!("Bearer {token}"))));
    assert_eq!(seen.upstream("dpop"), Some(None));
    assert_eq!(seen.claims["sub"], "alice");
    // Or both as they came.
    let as_they_came = engine(|c| c["upstream_dpop_as_bearer"] = false.into());
    let seen = World::new().ask(&as_they_came, &proved(&token, key.proof(&token)));
    assert_eq!((seen.reason, seen.upstream.len()), (Reason::Allowed, 0));
}

#[test]
fn hidden_credentials_are_hidden_with_their_proof() {
    for as_bearer in [true, false] {
        let seen = good(&engine(|c| {
            c["hide_credentials"] = true.into();
            c["upstream_dpop_as_bearer"] = as_bearer.into();
        }));
        assert_eq!(seen.reason, Reason::Allowed);
        assert_eq!(seen.upstream("authorization"), Some(None), "{as_bearer}");
        assert_eq!(seen.upstream("dpop"), Some(None), "{as_bearer}");
    }
}

#[test]
fn claims_go_on_as_headers_beside_the_token() {
    let seen = good(&engine(|c| {
        c["upstream_headers_claims"] = json!(["sub"]);
        c["upstream_headers_names"] = json!(["x-sub"]);
    }));
    assert_eq!(seen.upstream("x-sub"), Some(Some("alice")));
    assert!(seen.upstream("authorization").flatten().is_some_and(|value| value.starts_with("Bearer ")));
}

#[test]
fn report_only_lets_all_of_it_through_and_says_what_it_would_have_been() {
    let engine = engine(|c| c["report_only"] = true.into());
    let key = Key::new("ES256");
    let token = key.token();
    for (ask, expected) in [
        (authorized(format!("DPoP {token}")), Reason::ProofMissing),
        (authorized(format!("Bearer {token}")), Reason::DpopSchemeRequired),
        (proved(&token, "x"), Reason::ProofMalformed),
        (Ask { method: "POST", ..proved(&token, key.proof(&token)) }, Reason::ProofMethodMismatch),
    ] {
        let seen = World::new().ask(&engine, &ask);
        assert_eq!((seen.reason, seen.is_reported), (expected, true));
        assert!(seen.upstream.is_empty() && seen.headers.is_empty());
    }
    let (mut world, ask) = (World::new(), proved(&token, key.proof(&token)));
    assert!(!world.ask(&engine, &ask).is_reported);
    let again = world.ask(&engine, &ask);
    assert_eq!((again.reason, again.is_reported), (Reason::ProofReplayed, true));
}

#[test]
fn each_refusal_is_one_of_those_that_prove_no_possession() {
    let key = Key::new("ES256");
    let token = key.token();
    let (mut world, ask, engine) = (World::new(), proved(&token, key.proof(&token)), engine(|_| {}));
    assert!(!world.decide(&engine, &ask).is_binding());
    for reason in [
        world.decide(&engine, &ask),
        world.decide(&engine, &proved(&token, "x")),
        world.decide(&engine, &authorized(format!("Bearer {token}"))),
        world.decide(&engine, &authorized(format!("DPoP {token}"))),
    ] {
        assert!(reason.is_binding(), "{reason:?}");
    }
}

// --- Configurations

#[test]
fn an_engine_that_takes_proofs_says_what_it_needs() {
    let engine = engine(|_| {});
    assert!(engine.needs_http() && engine.needs_store() && engine.shares() && !engine.needs_certificate());
    let off = Arc::new(Engine::new(&config(|_| {})).expect("valid"));
    assert!(!off.needs_http() && !off.needs_store() && off.needs_certificate());
}

#[test]
fn a_configuration_that_could_not_hold_is_refused() {
    type Change = fn(&mut Value);
    let refused = |change: Change| {
        let config = config(|c| {
            c["proof_of_possession_dpop"] = "strict".into();
            c["public_origin"] = ORIGIN.into();
            c["store_secret"] = SECRET.into();
            change(c);
        });
        Engine::new(&config).err().map(|e| e.to_string())
    };
    assert_eq!(refused(|_| {}), None);
    let cases: [(&str, Change); 25] = [
        ("store_secret", |c| without(c, "store_secret")),
        ("public_origin", |c| without(c, "public_origin")),
        ("public_origin", |c| c["public_origin"] = "http://api.test".into()),
        ("public_origin", |c| c["public_origin"] = "https://api.test/base".into()),
        ("public_origin", |c| c["public_origin"] = "https://api.test/base/".into()),
        ("public_origin", |c| c["public_origin"] = "https://api.test/?a".into()),
        ("public_origin", |c| c["public_origin"] = "https://api.test?".into()),
        ("public_origin", |c| c["public_origin"] = "https://u@api.test".into()),
        ("public_origin", |c| c["public_origin"] = json!(["https://api.test", "api.test"])),
        ("public_origin", |c| c["public_origin"] = json!([])),
        ("public_path_prefix", |c| c["public_path_prefix"] = "base".into()),
        ("public_path_prefix", |c| c["public_path_prefix"] = "/".into()),
        ("public_path_prefix", |c| c["public_path_prefix"] = "/base?x".into()),
        ("trusted_ips", |c| c["trusted_ips"] = json!(["lb.test"])),
        ("trusted_ips", |c| c["trusted_ips"] = json!(["10.0.0.0/33"])),
        ("dpop_algorithms", |c| c["dpop_algorithms"] = json!(["HS256"])),
        ("dpop_algorithms", |c| c["dpop_algorithms"] = json!(["none"])),
        ("dpop_algorithms", |c| c["dpop_algorithms"] = json!([])),
        ("dpop_proof_lifetime", |c| c["dpop_proof_lifetime"] = 0.into()),
        ("dpop_proof_lifetime", |c| c["dpop_proof_lifetime"] = 3601.into()),
        ("dpop_proof_leeway", |c| c["dpop_proof_leeway"] = 61.into()),
        ("dpop_nonce_secret", |c| c["dpop_use_nonce"] = true.into()),
        ("dpop_nonce_secret", |c| c["dpop_nonce_secret"] = SECRET.into()),
        ("proof_of_possession_either", |c| c["proof_of_possession_either"] = true.into()),
        ("proof_of_possession_dpop", |c| c["proof_of_possession_dpop"] = "Strict".into()),
    ];
    for (place, (name, change)) in cases.into_iter().enumerate() {
        let error = refused(change).unwrap_or_else(|| panic!("case {place}, {name}, is accepted"));
        assert!(error.starts_with(name), "case {place}: {error}");
    }
    let nonces = |change: Change| {
        let config = config(|c| {
            c["proof_of_possession_dpop"] = "strict".into();
            c["public_origin"] = ORIGIN.into();
            c["store_secret"] = SECRET.into();
            c["dpop_use_nonce"] = true.into();
            c["dpop_nonce_secret"] = SECRET.into();
            change(c);
        });
        Engine::new(&config).err().map(|e| e.to_string())
    };
    assert_eq!(nonces(|_| {}), None);
    assert_eq!(nonces(|c| c["dpop_nonce_previous_secrets"] = json!(vec![SECRET; 7])), None);
    for (name, change) in [
        ("dpop_nonce_secret", (|c| c["dpop_nonce_secret"] = SECRET[1..].into()) as Change),
        ("dpop_nonce_previous_secrets", |c| c["dpop_nonce_previous_secrets"] = json!([SECRET, &SECRET[1..]])),
        ("dpop_nonce_previous_secrets", |c| c["dpop_nonce_previous_secrets"] = json!(vec![SECRET; 8])),
        // A client that is not refused would get no nonce.
        ("report_only", |c| c["report_only"] = true.into()),
    ] {
        let error = nonces(change).expect("an error");
        assert!(error.starts_with(name), "{error}");
        assert!(!error.contains(SECRET));
    }
}

#[test]
fn no_option_of_proofs_stands_without_them() {
    for (name, value) in [
        ("proof_of_possession_either", json!(true)),
        ("dpop_algorithms", json!(["ES256"])),
        ("dpop_proof_lifetime", json!(60)),
        ("dpop_proof_leeway", json!(5)),
        ("dpop_use_nonce", json!(true)),
        ("dpop_nonce_secret", json!(SECRET)),
        ("dpop_nonce_previous_secrets", json!([SECRET])),
        ("public_origin", json!(ORIGIN)),
        ("public_path_prefix", json!("/base")),
        ("trusted_ips", json!(["10.0.0.0/8"])),
        ("upstream_dpop_as_bearer", json!(true)),
        ("insecure_dpop_replay", json!(true)),
    ] {
        for mode in [None, Some("off")] {
            let config = config(|c| {
                c[name] = value.clone();
                if let Some(mode) = mode {
                    c["proof_of_possession_dpop"] = mode.into();
                }
            });
            let error = Engine::new(&config).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with(name), "{name}: {error}");
        }
    }
}

#[test]
fn a_verifier_knows_no_request_and_takes_no_proofs() {
    for mode in ["strict", "optional"] {
        let config = config(|c| {
            c["proof_of_possession_dpop"] = mode.into();
            c["public_origin"] = ORIGIN.into();
            c["store_secret"] = SECRET.into();
        });
        let error = Verifier::new(&config).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.starts_with("proof_of_possession_dpop"), "{error}");
    }
    let verifier = Verifier::new(&config(|_| {})).expect("valid");
    let key = Key::new("ES256");
    let token = key.token_with(|c| c["cnf"] = json!({"x5t#S256": common::x5t(CLIENT_A), "jkt": key.jkt()}));
    let decision = verifier.verify(token.as_bytes(), ClientCertificate::Der(CLIENT_A), NOW);
    assert_eq!(decision.err(), Some(Reason::ConfirmationUnsupported));
}
