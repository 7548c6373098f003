//! RFC 9449 §11.1: a proof is good for one request, wherever it comes again.

use keybound::steps::{StoreAnswer, StoreOperation};
use keybound::{Reason, Step};
use serde_json::json;

use crate::common::{CLIENT_A, NOW};
use crate::world::{
    Ask, Condition, Key, OPAQUE, SECRET, World, engine, engine_with_nonces, introspecting, proof_claims, proved,
};

#[test]
fn rfc9449_11_1_b_a_proof_passes_once() {
    let (key, engine, mut world) = (Key::new("ES256"), engine(|_| {}), World::new());
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    assert_eq!(world.decide(&engine, &ask), Reason::Allowed);
    let seen = world.ask(&engine, &ask);
    assert_eq!((seen.reason, seen.status), (Reason::ProofReplayed, 401));
    assert_eq!(seen.challenge, "DPoP error=\"invalid_dpop_proof\", algs=\"ES256 PS256 EdDSA\"");
    // One that is made for each request does.
    for _ in 0..3 {
        assert_eq!(world.decide(&engine, &proved(&token, key.proof(&token))), Reason::Allowed);
    }
}

#[test]
fn rfc9449_11_1_b_another_worker_node_or_time_changes_nothing() {
    let (key, mut world) = (Key::new("ES256"), World::new());
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    assert_eq!(world.decide(&engine(|_| {}), &ask), Reason::Allowed);
    assert_eq!(world.decide(&engine(|_| {}), &ask), Reason::ProofReplayed);
    // With other options, and after a restart.
    assert_eq!(world.decide(&engine(|c| c["dpop_proof_lifetime"] = 3600.into()), &ask), Reason::ProofReplayed);
    // And not with another secret, by which nobody knows what is in the store.
    assert_eq!(world.decide(&engine(|c| c["store_secret"] = SECRET.replace('s', "z").into()), &ask), Reason::Allowed);
}

#[test]
fn rfc9449_11_1_b_of_many_at_once_one_passes() {
    let (key, engine, mut world) = (Key::new("ES256"), engine(|_| {}), World::new());
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    let mut checks: Vec<_> = (0..200).map(|_| World::begin(&engine, &ask)).collect();
    // All are at the store before the first one was there.
    assert!(
        checks.iter().all(|check| matches!(check.step(), Step::Store(store) if store.operation == StoreOperation::Add))
    );
    let passed = checks.iter_mut().rev().map(|check| world.finish(check, NOW).reason);
    assert_eq!(passed.filter(|reason| *reason == Reason::Allowed).count(), 1);
}

#[test]
fn a_proof_is_known_by_its_key_and_jti_and_by_nothing_else() {
    let (one, other) = (Key::new("ES256"), Key::new("ES256"));
    let spent = |key: &Key, jti: &str, method: &'static str, target: &str, nth: i64| {
        let token = key.token_with(|c| c["jti"] = nth.to_string().into());
        let proof = key.proof_with(&token, |_, c| {
            c["jti"] = jti.into();
            c["htm"] = method.into();
            c["htu"] = format!("https://api.test{target}").into();
            c["iat"] = (NOW - nth).into();
        });
        let seen = World::new().ask(&engine(|_| {}), &Ask { method, target: target.into(), ..proved(&token, proof) });
        assert_eq!(seen.reason, Reason::Allowed);
        let [store] = &seen.stored[..] else { panic!("one step") };
        assert_eq!((store.operation, store.is_cache, store.delay_ms), (StoreOperation::Add, false, 0));
        store.key
    };
    let key = spent(&one, "a", "GET", "/data", 0);
    assert_eq!(spent(&one, "a", "GET", "/data", 1), key);
    assert_eq!(spent(&one, "a", "POST", "/data", 0), key);
    assert_eq!(spent(&one, "a", "GET", "/other", 0), key);
    let jtis = ["A", "a ", "aa", "b", " ", "\u{e1}", "a\u{301}"];
    let mut keys = vec![key, spent(&other, "a", "GET", "/data", 0)];
    keys.extend(jtis.map(|jti| spent(&one, jti, "GET", "/data", 0)));
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn nobody_can_spend_a_proof_whose_key_they_lack() {
    let (key, thief) = (Key::new("ES256"), Key::new("ES256"));
    let token = key.token();
    let claims = proof_claims(&token);
    let proof = key.jws(&key.header().to_string(), &claims.to_string());
    let (signed, _) = proof.rsplit_once('.').expect("parts");
    let forged = thief.jws(&key.header().to_string(), &claims.to_string());
    let stripped = format!("{signed}.");
    let own_key = thief.jws(&thief.header().to_string(), &claims.to_string());
    // By a token of their own, for which the proof is not.
    let own_token = thief.token();
    let own_claims = thief.proof_with(&own_token, |_, c| c["jti"] = claims["jti"].clone());
    let (engine, mut world) = (engine(|_| {}), World::new());
    for (token, proof, expected) in [
        (&token, forged, Reason::ProofSignatureInvalid),
        (&token, stripped, Reason::ProofSignatureInvalid),
        (&token, own_key, Reason::ProofKeyMismatch),
        (&own_token, proof.clone(), Reason::ProofTokenMismatch),
    ] {
        let seen = world.ask(&engine, &proved(token, proof));
        assert_eq!(seen.reason, expected);
        assert!(seen.stored.is_empty(), "{expected:?}");
    }
    assert_eq!(world.decide(&engine, &proved(&own_token, own_claims)), Reason::Allowed);
    assert_eq!(world.decide(&engine, &proved(&token, proof)), Reason::Allowed);
}

#[test]
fn what_is_refused_for_another_reason_spends_no_proof() {
    let key = Key::new("ES256");
    let token = key.token_with(|c| c["scope"] = "read".into());
    let ask = proved(&token, key.proof(&token));
    let (strict, lenient, mut world) =
        (engine(|c| c["scopes_required"] = json!(["admin"])), engine(|_| {}), World::new());
    let seen = world.ask(&strict, &ask);
    assert_eq!((seen.reason, seen.stored.len()), (Reason::InsufficientScope, 0));
    let seen = world.ask(&strict, &Ask { early_data: true, ..ask.clone() });
    assert_eq!((seen.reason, seen.stored.len()), (Reason::EarlyData, 0));
    assert_eq!(world.decide(&lenient, &ask), Reason::Allowed);
}

#[test]
fn the_store_is_the_last_step_of_all() {
    let key = Key::new("ES256");
    let both = json!({"jkt": key.jkt(), "x5t#S256": crate::common::x5t(CLIENT_A)});
    let jwt = key.token_with(|c| c["cnf"] = both.clone());
    let said = json!({"exp": NOW + 600, "cnf": both});
    for opaque in [false, true] {
        let mtls = |c: &mut serde_json::Value| c["proof_of_possession_mtls"] = "strict".into();
        let (engine, token) = if opaque { (introspecting(mtls), OPAQUE) } else { (engine(mtls), &*jwt) };
        let mut world = World::saying(said.clone());
        for _ in 0..2 {
            let ask = Ask { certificate: Some(CLIENT_A), ..proved(token, key.proof(token)) };
            let seen = world.ask(&engine, &ask);
            assert_eq!(seen.reason, Reason::Allowed, "{}", seen.detail);
            let last = seen.stored.last().expect("a step");
            assert_eq!(last.operation, StoreOperation::Add);
            assert_eq!(seen.spent().count(), 1);
        }
        // Once it was noted, the answer is there at once.
        let ask = Ask { certificate: Some(CLIENT_A), ..proved(token, key.proof(token)) };
        let mut check = World::begin(&engine, &ask);
        let Step::Store(store) = check.step() else { panic!("a store step") };
        assert_eq!(store.operation, StoreOperation::Add);
        check.stored(NOW, StoreAnswer::Done).expect("a store");
        assert_eq!(check.reason(), Some(Reason::Allowed));
    }
}

// --- Without a store that works

#[test]
fn a_store_that_is_full_or_down_refuses() {
    let (key, engine, mut world) = (Key::new("ES256"), engine(|_| {}), World::new());
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    for condition in [Condition::IsFull, Condition::IsDown] {
        world.condition = condition;
        let seen = world.ask(&engine, &ask);
        assert_eq!((seen.reason, seen.status, &*seen.challenge), (Reason::StoreUnavailable, 503, ""));
    }
    // It is no use of the proof.
    world.condition = Condition::Works;
    assert_eq!(world.decide(&engine, &ask), Reason::Allowed);
    // What a full store knows, it knows.
    world.condition = Condition::IsFull;
    assert_eq!(world.decide(&engine, &ask), Reason::ProofReplayed);
    world.condition = Condition::IsDown;
    assert_eq!(world.decide(&engine, &ask), Reason::StoreUnavailable);
}

#[test]
fn insecure_dpop_replay_lets_through_what_cannot_be_remembered_and_says_so() {
    let note = "the proof is not remembered (insecure_dpop_replay)";
    let with_store = engine(|c| c["insecure_dpop_replay"] = true.into());
    let without = engine(|c| {
        c["insecure_dpop_replay"] = true.into();
        crate::common::without(c, "store_secret");
    });
    assert!(!with_store.needs_store() && !without.needs_store() && engine(|_| {}).needs_store());
    let key = Key::new("ES256");
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    let mut world = World::new();
    for _ in 0..2 {
        let seen = world.ask(&without, &ask);
        assert_eq!((seen.reason, seen.stored.len(), &*seen.detail), (Reason::Allowed, 0, note));
    }
    for condition in [Condition::IsDown, Condition::IsFull] {
        world.condition = condition;
        for _ in 0..2 {
            let seen = world.ask(&with_store, &ask);
            assert_eq!((seen.reason, &*seen.detail), (Reason::Allowed, note));
        }
    }
    world.condition = Condition::Works;
    let seen = world.ask(&with_store, &ask);
    assert_eq!((seen.reason, &*seen.detail), (Reason::Allowed, ""));
    assert_eq!(world.decide(&with_store, &ask), Reason::ProofReplayed);
    // All else is checked.
    let thief = Key::new("ES256");
    assert_eq!(world.decide(&without, &proved(&token, thief.proof(&token))), Reason::ProofKeyMismatch);
    assert_eq!(world.decide(&without, &Ask { now: NOW + 61, ..ask }), Reason::ProofExpired);
}

// --- One request that is decided about more than once

#[test]
fn the_very_same_request_may_use_its_proof_again_and_no_other() {
    let (key, engine, mut world) = (Key::new("ES256"), engine(|_| {}), World::new());
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    let of = |id| Ask { id, ..ask.clone() };
    assert_eq!(world.decide(&engine, &of("request-1")), Reason::Allowed);
    let again = world.ask(&engine, &of("request-1"));
    assert_eq!(again.reason, Reason::Allowed);
    let operations: Vec<_> = again.stored.iter().map(|store| store.operation).collect();
    assert_eq!(operations, [StoreOperation::Add, StoreOperation::Get]);
    assert!(!again.stored.iter().any(|store| store.value.windows(9).any(|w| w == b"request-1")));
    for other in ["request-2", "request-", "request-11", "", "REQUEST-1"] {
        assert_eq!(world.decide(&engine, &of(other)), Reason::ProofReplayed, "{other}");
    }
    // One that nothing names is never the same.
    let (key, mut world) = (Key::new("ES256"), World::new());
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    assert_eq!(world.decide(&engine, &ask), Reason::Allowed);
    assert_eq!(world.decide(&engine, &ask), Reason::ProofReplayed);
    assert_eq!(world.decide(&engine, &Ask { id: "x", ..ask }), Reason::ProofReplayed);
}

#[test]
fn whether_it_is_the_same_request_is_never_guessed() {
    let (key, engine) = (Key::new("ES256"), engine(|_| {}));
    let token = key.token();
    let ask = Ask { id: "request-1", ..proved(&token, key.proof(&token)) };
    let mark = {
        let check = World::begin(&engine, &ask);
        let Step::Store(store) = check.step() else { panic!("a store step") };
        store.value.clone()
    };
    assert_eq!(mark.len(), 16);
    let longer = [&mark[..], &[0]].concat();
    for (answer, expected) in [
        (StoreAnswer::Found(&mark), Reason::Allowed),
        (StoreAnswer::Found(&mark[..15]), Reason::ProofReplayed),
        (StoreAnswer::Found(&longer), Reason::ProofReplayed),
        (StoreAnswer::Found(b""), Reason::ProofReplayed),
        // Its time is over just now.
        (StoreAnswer::Absent, Reason::StoreUnavailable),
        (StoreAnswer::Failed, Reason::StoreUnavailable),
    ] {
        let mut check = World::begin(&engine, &ask);
        check.stored(NOW, StoreAnswer::Exists).expect("a store");
        let Step::Store(store) = check.step() else { panic!("a store step") };
        assert_eq!(store.operation, StoreOperation::Get);
        check.stored(NOW, answer).expect("a store");
        assert_eq!(check.reason(), Some(expected));
    }
}

#[test]
fn an_answer_that_a_store_cannot_give_is_no_first_use() {
    let (key, engine) = (Key::new("ES256"), engine(|_| {}));
    let token = key.token();
    for (answer, expected) in [
        (StoreAnswer::Done, Reason::Allowed),
        (StoreAnswer::Exists, Reason::ProofReplayed),
        (StoreAnswer::Absent, Reason::StoreUnavailable),
        (StoreAnswer::Found(b"x"), Reason::StoreUnavailable),
        (StoreAnswer::Failed, Reason::StoreUnavailable),
    ] {
        let mut check = World::begin(&engine, &proved(&token, key.proof(&token)));
        check.stored(NOW, answer).expect("a store");
        assert_eq!(check.reason(), Some(expected));
    }
}

// --- For how long it is known

#[test]
fn a_proof_is_known_until_it_is_no_more_accepted_at_any_second() {
    for (lifetime, leeway) in [(60, 5), (1, 0), (10, 60)] {
        for age in [-leeway, 0, lifetime] {
            let engine = engine(|c| {
                c["dpop_proof_lifetime"] = lifetime.into();
                c["dpop_proof_leeway"] = leeway.into();
            });
            let (key, mut world) = (Key::new("ES256"), World::new());
            let token = key.token();
            let ask = proved(&token, key.proof_with(&token, |_, c| c["iat"] = (NOW - age).into()));
            let first = world.ask(&engine, &ask);
            assert_eq!(first.reason, Reason::Allowed);
            // A node whose clock is behind by as much as is tolerated accepts it for so much longer.
            assert_eq!(i64::from(first.stored[0].ttl), lifetime - age + leeway + 1);
            for later in 0..=lifetime - age + 2 {
                let seen = world.decide(&engine, &Ask { now: NOW + later, ..ask.clone() });
                let expected = if later <= lifetime - age { Reason::ProofReplayed } else { Reason::ProofExpired };
                assert_eq!(seen, expected, "{lifetime} {leeway} {age} {later}");
            }
        }
    }
}

#[test]
fn a_proof_with_a_nonce_is_known_until_the_nonce_ends() {
    let engine = engine_with_nonces(|_| {});
    let (key, mut world) = (Key::new("ES256"), World::new());
    let token = key.token();
    let nonce = {
        let seen = world.ask(&engine, &proved(&token, key.proof(&token)));
        seen.header("dpop-nonce").expect("a nonce").to_owned()
    };
    let ask = proved(&token, key.proof_with(&token, |_, c| c["nonce"] = nonce.into()));
    let ask = Ask { now: NOW + 20, ..ask };
    let first = world.ask(&engine, &ask);
    assert_eq!((first.reason, first.stored[0].ttl), (Reason::Allowed, 60 - 20 + 5 + 1));
    for later in 20..=62 {
        let expected = if later <= 60 { Reason::ProofReplayed } else { Reason::ProofNonceInvalid };
        assert_eq!(world.decide(&engine, &Ask { now: NOW + later, ..ask.clone() }), expected, "{later}");
    }
}

#[test]
fn rfc9449_11_1_a_a_proof_whose_window_ended_while_a_server_was_asked_is_refused() {
    let key = Key::new("ES256");
    let said = || json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}});
    for (later, expected) in [(60, Reason::Allowed), (61, Reason::ProofExpired), (600, Reason::TokenExpired)] {
        let mut world = World::saying(said());
        let mut check = World::begin(&introspecting(|_| {}), &proved(OPAQUE, key.proof(OPAQUE)));
        assert_eq!(world.finish(&mut check, NOW + later).reason, expected, "{later}");
    }
    // By the time of its nonce, if it has one: the client gets another.
    for (later, expected) in [(60, Reason::Allowed), (61, Reason::ProofNonceInvalid)] {
        let engine = introspecting(|c| {
            c["dpop_use_nonce"] = true.into();
            c["dpop_nonce_secret"] = SECRET.into();
        });
        let mut world = World::saying(said());
        let first = world.ask(&engine, &proved(OPAQUE, key.proof(OPAQUE)));
        let nonce = first.header("dpop-nonce").expect("a nonce");
        let proof = key.proof_with(OPAQUE, |_, c| c["nonce"] = nonce.into());
        let mut check = World::begin(&engine, &proved(OPAQUE, proof));
        let seen = world.finish(&mut check, NOW + later);
        assert_eq!((seen.reason, seen.header("dpop-nonce").is_some()), (expected, later > 60), "{later}");
    }
}

/// By then it may have forgotten the first use.
#[test]
fn rfc9449_11_1_b_a_proof_whose_window_ended_while_the_store_was_asked_is_refused() {
    for (leeway, late, expected) in [
        (0, 60, Reason::ProofReplayed),
        (0, 61, Reason::ProofExpired),
        (5, 65, Reason::ProofReplayed),
        (5, 66, Reason::ProofExpired),
        (5, 600, Reason::ProofExpired),
    ] {
        let engine = engine(|c| c["dpop_proof_leeway"] = leeway.into());
        let (key, mut world) = (Key::new("ES256"), World::new());
        let token = key.token();
        let ask = proved(&token, key.proof(&token));
        assert_eq!(world.decide(&engine, &ask), Reason::Allowed);
        let mut again = World::begin(&engine, &Ask { now: NOW + 60, ..ask });
        assert_eq!(world.finish(&mut again, NOW + late).reason, expected, "{leeway} {late}");
    }
}

/// However long its upstream took, before nginx redirects it internally.
#[test]
fn the_very_same_request_may_use_its_proof_after_the_window() {
    let (key, engine, nonces) = (Key::new("ES256"), engine(|_| {}), engine_with_nonces(|_| {}));
    let token = key.token();
    let nonce = World::new().ask(&nonces, &proved(&token, key.proof(&token))).header("dpop-nonce").map(str::to_owned);
    let nonce = nonce.expect("a nonce");
    let with_nonce = key.proof_with(&token, |_, c| c["nonce"] = nonce.into());
    for (engine, proof, expected) in
        [(engine, key.proof(&token), Reason::ProofExpired), (nonces, with_nonce, Reason::ProofNonceInvalid)]
    {
        let mut world = World::new();
        let ask = Ask { id: "request-1", ..proved(&token, proof) };
        let first = world.ask(&engine, &ask);
        assert_eq!(first.reason, Reason::Allowed);
        let spent = first.spent.clone().expect("it was noted");
        let later = |later| Ask { now: NOW + later, spent: spent.clone(), ..ask.clone() };
        for seconds in [1, 60, 61, 67, 599] {
            let again = world.ask(&engine, &later(seconds));
            assert_eq!((again.reason, &again.spent), (Reason::Allowed, &first.spent), "{seconds}");
            let untold = Ask { now: NOW + seconds, ..ask.clone() };
            let refused = if seconds <= 60 { Reason::Allowed } else { expected };
            assert_eq!(world.decide(&engine, &untold), refused, "{seconds}: that it passed is for the host to say");
        }
        // It is held against the time of then, and all else against now.
        let stale = [&spent[..32], &(NOW + 61).to_be_bytes()].concat();
        assert_eq!(world.decide(&engine, &Ask { spent: stale, ..later(62) }), expected);
        assert_eq!(world.decide(&engine, &later(601)), Reason::TokenExpired);
        let other = Ask { id: "request-2", ..later(30) };
        assert_eq!(world.decide(&engine, &other), Reason::ProofReplayed);
    }
}

/// By a session, by a certificate, or with another proof or another store: then nobody kept this proof from being used by others.
#[test]
fn that_a_request_passed_without_this_proof_counts_for_nothing() {
    let (key, engine) = (Key::new("ES256"), engine(|_| {}));
    let token = key.token();
    let ask = Ask { id: "request-1", ..proved(&token, key.proof(&token)) };
    let spent_by = |engine: &_, ask: &Ask| World::new().ask(engine, ask).spent.expect("it was noted");
    let own = spent_by(&engine, &ask);
    let another_store = self::engine(|c| c["store_secret"] = SECRET.replace('s', "z").into());
    let others = [
        spent_by(&engine, &proved(&token, key.proof(&token))),
        spent_by(&another_store, &ask),
        own[..39].to_vec(),
        own[1..].to_vec(),
        own[32..].to_vec(),
        [&own[..], &[0]].concat(),
        vec![0; 40],
        Vec::new(),
    ];
    for (spent, expected) in
        others.into_iter().map(|spent| (spent, Reason::ProofExpired)).chain([(own, Reason::Allowed)])
    {
        let late = Ask { now: NOW + 70, spent, ..ask.clone() };
        assert_eq!(World::new().decide(&engine, &late), expected, "{:?}", late.spent);
    }
    // What nobody noted has no name.
    let careless = self::engine(|c| {
        c["insecure_dpop_replay"] = true.into();
        crate::common::without(c, "store_secret");
    });
    assert_eq!(World::new().ask(&careless, &ask).spent, None);
}
