//! RFC 9449 §8 and §9: nonces that the gateway demands.

use std::sync::Arc;

use keybound::{Engine, Reason};
use serde_json::{Value, json};

use crate::common::{NOW, b64};
use crate::world::{
    Ask, Key, NONCE_SECRET, OTHER_SECRET, Seen, World, authorized, bare, decide, engine, engine_with_nonces, proved,
};

const CHALLENGE: &str = "DPoP error=\"use_dpop_nonce\", algs=\"ES256 PS256 EdDSA\"";

/// The nonce that an engine gives out at this time.
fn nonce(engine: &Arc<Engine>, now: i64) -> String {
    let key = Key::new("ES256");
    let token = key.token();
    let proof = key.proof_with(&token, |_, c| c["iat"] = now.into());
    let seen = World::new().ask(engine, &Ask { now, ..proved(&token, proof) });
    assert_eq!(seen.reason, Reason::ProofNonceMissing);
    seen.header("dpop-nonce").expect("a nonce").to_owned()
}

/// What a request with this nonce gets at this time.
fn with(engine: &Arc<Engine>, now: i64, nonce: &str) -> Seen {
    let key = Key::new("ES256");
    let token = key.token();
    let proof = key.proof_with(&token, |_, c| c["nonce"] = nonce.into());
    World::new().ask(engine, &Ask { now, ..proved(&token, proof) })
}

#[test]
fn rfc9449_9_a_a_proof_without_a_nonce_gets_one_and_the_next_one_passes() {
    let (key, engine, mut world) = (Key::new("ES256"), engine_with_nonces(|_| {}), World::new());
    let token = key.token();
    let seen = world.ask(&engine, &proved(&token, key.proof(&token)));
    assert_eq!((seen.reason, seen.status, &*seen.challenge), (Reason::ProofNonceMissing, 401, CHALLENGE));
    let names: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["dpop-nonce", "cache-control"]);
    let nonce = seen.header("dpop-nonce").expect("a nonce");
    let again = world.ask(&engine, &proved(&token, key.proof_with(&token, |_, c| c["nonce"] = nonce.into())));
    assert_eq!((again.reason, again.headers.len()), (Reason::Allowed, 0));
}

#[test]
fn rfc9449_8_2_a_an_answer_with_a_nonce_is_not_to_be_kept() {
    let engine = engine_with_nonces(|_| {});
    let old = nonce(&engine, NOW);
    for seen in [with(&engine, NOW, "x"), with(&engine, NOW + 61, &old), with(&engine, NOW + 40, &old)] {
        assert!(seen.header("dpop-nonce").is_some(), "{:?}", seen.reason);
        assert_eq!(seen.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn rfc9449_11_3_a_once_nonces_are_asked_for_no_proof_passes_without() {
    let (key, mut world) = (Key::new("ES256"), World::new());
    let token = key.token();
    let ask = proved(&token, key.proof(&token));
    assert_eq!(world.decide(&engine_with_nonces(|_| {}), &ask), Reason::ProofNonceMissing);
    assert_eq!(world.decide(&engine(|_| {}), &ask), Reason::Allowed);
}

#[test]
fn rfc9449_8_1_a_a_nonce_is_of_the_characters_of_its_grammar() {
    let engine = engine_with_nonces(|_| {});
    for later in 0..50 {
        let nonce = nonce(&engine, NOW + later * 11);
        assert_eq!(nonce.len(), 54);
        assert!(nonce.bytes().all(|c| matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{nonce}");
    }
}

#[test]
fn rfc9449_4_3_10_a_nonce_is_good_for_its_lifetime_to_the_second() {
    for lifetime in [60, 1, 3600] {
        let engine = engine_with_nonces(|c| c["dpop_proof_lifetime"] = lifetime.into());
        let nonce = nonce(&engine, NOW);
        for (later, expected) in [
            (0, Reason::Allowed),
            (lifetime, Reason::Allowed),
            (lifetime + 1, Reason::ProofNonceInvalid),
            // Another node made it, whose clock is ahead.
            (-5, Reason::Allowed),
            (-6, Reason::ProofNonceInvalid),
        ] {
            let key = Key::new("ES256");
            let token = key.token_with(|c| c["exp"] = (NOW + 10_000).into());
            let proof = key.proof_with(&token, |_, c| c["nonce"] = nonce.clone().into());
            let seen = World::new().ask(&engine, &Ask { now: NOW + later, ..proved(&token, proof) });
            assert_eq!(seen.reason, expected, "{lifetime} {later}");
            // Whoever has a bad one gets a good one.
            assert_eq!(seen.challenge == CHALLENGE, expected != Reason::Allowed);
            assert!(expected == Reason::Allowed || seen.header("dpop-nonce").is_some_and(|new| new != nonce));
        }
    }
}

#[test]
fn rfc9449_4_3_11_with_a_nonce_the_clock_of_the_client_does_not_matter() {
    let engine = engine_with_nonces(|_| {});
    let nonce = nonce(&engine, NOW);
    let key = Key::new("ES256");
    let token = key.token();
    for iat in [json!(0), json!(-1), json!(NOW - 100_000), json!(NOW + 100_000), json!(i64::MAX), json!(i64::MIN)] {
        let of = |nonce: &str| {
            key.proof_with(&token, |_, c| {
                c["iat"] = iat.clone();
                c["nonce"] = nonce.into();
            })
        };
        assert_eq!(World::new().decide(&engine, &proved(&token, of(&nonce))), Reason::Allowed, "{iat}");
        let seen = World::new().decide(&engine, &proved(&token, of("x")));
        assert_eq!(seen, Reason::ProofNonceInvalid, "{iat}");
        // Where none is asked for, it does.
        assert_ne!(decide(&proved(&token, of(&nonce))), Reason::Allowed, "{iat}");
    }
    // It must be there all the same.
    let proof = key.proof_with(&token, |_, c| {
        crate::common::without(c, "iat");
        c["nonce"] = nonce.clone().into();
    });
    assert_eq!(World::new().decide(&engine, &proved(&token, proof)), Reason::ProofMalformed);
}

#[test]
fn rfc9449_8_a_nobody_makes_a_nonce_without_the_secret() {
    use base64::Engine as _;
    let engine = engine_with_nonces(|_| {});
    let good = nonce(&engine, NOW);
    assert_eq!(with(&engine, NOW, &good).reason, Reason::Allowed);
    let octets = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&good).expect("base64url");
    assert_eq!(octets.len(), 40);
    // Each bit: of the time, so that it would live longer, and of the MAC.
    for bit in 0..octets.len() * 8 {
        let mut other = octets.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(with(&engine, NOW, &b64(&other)).reason, Reason::ProofNonceInvalid, "bit {bit}");
    }
    let foreign = nonce(&engine_with_nonces(|c| c["dpop_nonce_secret"] = OTHER_SECRET.into()), NOW);
    let mut stray = good.clone();
    let last = stray.pop().expect("not empty");
    // The last character carries four bits that nothing reads.
    stray.push(if last == 'A' { 'B' } else { char::from(last as u8 + 1) });
    for bad in [
        foreign,
        stray,
        String::new(),
        " ".into(),
        good[1..].to_owned(),
        good[..53].to_owned(),
        format!("{good}="),
        format!("{good}=="),
        format!("{good}A"),
        format!("{good}AA"),
        format!(" {good}"),
        good.replace(&good[..1], "+"),
        b64(&octets[..8]),
        b64(&octets[..39]),
        b64(&[&octets[..], &[0]].concat()),
        b64(&[0; 40]),
        "\u{e9}".repeat(27),
        "x".repeat(54),
        "x".repeat(2000),
    ] {
        assert_eq!(with(&engine, NOW, &bad).reason, Reason::ProofNonceInvalid, "{bad:?}");
    }
}

#[test]
fn rfc9449_8_a_nonces_of_two_seconds_or_two_secrets_have_nothing_in_common() {
    let engine = engine_with_nonces(|_| {});
    let other = engine_with_nonces(|c| c["dpop_nonce_secret"] = OTHER_SECRET.into());
    // Behind the time, which is in front, is the MAC.
    let mac = |nonce: &str| nonce[11..].to_owned();
    let nonces = [nonce(&engine, NOW), nonce(&engine, NOW + 1), nonce(&other, NOW)].map(|nonce| mac(&nonce));
    assert!(nonces[0] != nonces[1] && nonces[0] != nonces[2] && nonces[1] != nonces[2]);
    assert_eq!(mac(&nonce(&engine, NOW)), nonces[0]);
}

#[test]
fn rfc9449_9_b_a_nonce_of_the_authorization_server_is_none_of_ours() {
    // The server gives out nonces in the same way, by a secret of its own, and they are of the same form.
    let engine = engine_with_nonces(|_| {});
    let of_server = nonce(&engine_with_nonces(|c| c["dpop_nonce_secret"] = OTHER_SECRET.into()), NOW);
    let seen = with(&engine, NOW, &of_server);
    assert_eq!(seen.reason, Reason::ProofNonceInvalid);
    let ours = seen.header("dpop-nonce").expect("a nonce");
    assert_eq!(with(&engine, NOW, ours).reason, Reason::Allowed);
}

#[test]
fn a_nonce_is_good_on_every_node_and_through_a_change_of_secrets() {
    let of = |current: &str, previous: &[&str]| {
        let (current, previous) = (Value::from(current), json!(previous));
        engine_with_nonces(|c| {
            c["dpop_nonce_secret"] = current;
            if previous != json!([]) {
                c["dpop_nonce_previous_secrets"] = previous;
            }
        })
    };
    // As configuration.md has it: the new one is known everywhere before it makes nonces.
    let (old, prepared) = (of(NONCE_SECRET, &[]), of(NONCE_SECRET, &[OTHER_SECRET]));
    let (changed, new) = (of(OTHER_SECRET, &[NONCE_SECRET]), of(OTHER_SECRET, &[]));
    for (maker, takers, refusers) in [
        (&old, vec![&old, &prepared, &changed], vec![&new]),
        (&prepared, vec![&old, &prepared, &changed], vec![&new]),
        (&changed, vec![&prepared, &changed, &new], vec![&old]),
        (&new, vec![&prepared, &changed, &new], vec![&old]),
    ] {
        let nonce = nonce(maker, NOW);
        for taker in takers {
            assert_eq!(with(taker, NOW, &nonce).reason, Reason::Allowed);
        }
        for refuser in refusers {
            assert_eq!(with(refuser, NOW, &nonce).reason, Reason::ProofNonceInvalid);
        }
    }
    // The last of several.
    let many: Vec<String> = (0..6).map(|i| format!("{i}{OTHER_SECRET}")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push(NONCE_SECRET);
    assert_eq!(with(&of(OTHER_SECRET, &many), NOW, &nonce(&old, NOW)).reason, Reason::Allowed);
}

#[test]
fn rfc9449_8_b_a_client_gets_its_next_nonce_before_the_old_one_ends_and_only_one() {
    let engine = engine_with_nonces(|_| {});
    let nonce = nonce(&engine, NOW);
    for later in 0..=60 {
        let seen = with(&engine, NOW + later, &nonce);
        assert_eq!(seen.reason, Reason::Allowed, "{later}");
        let next = seen.header("dpop-nonce");
        assert_eq!(next.is_some(), later >= 30, "{later}");
        assert_eq!(seen.header("cache-control").is_some(), next.is_some());
        if let Some(next) = next {
            assert_eq!(with(&engine, NOW + later + 60, next).reason, Reason::Allowed);
        }
    }
    // Without nonces there is none.
    let key = Key::new("ES256");
    let token = key.token();
    let proof = key.proof_with(&token, |_, c| c["nonce"] = nonce.into());
    let seen = World::new().ask(&self::engine(|_| {}), &Ask { now: NOW + 60, ..proved(&token, proof) });
    assert_eq!((seen.reason, seen.headers.len()), (Reason::Allowed, 0));
}

#[test]
fn a_nonce_is_given_only_to_those_who_lack_nothing_that_comes_before() {
    let engine = engine_with_nonces(|_| {});
    let key = Key::new("ES256");
    let token = key.token();
    let expired = key.token_with(|c| c["exp"] = (NOW - 100).into());
    let elsewhere = key.proof_with(&token, |_, c| c["htm"] = "POST".into());
    for (ask, expected) in [
        (bare(), Reason::NoToken),
        (authorized(format!("Bearer {token}")), Reason::DpopSchemeRequired),
        (authorized(format!("DPoP {token}")), Reason::ProofMissing),
        (proved(&expired, key.proof(&expired)), Reason::TokenExpired),
        (proved(&token, elsewhere), Reason::ProofMethodMismatch),
    ] {
        let seen = World::new().ask(&engine, &ask);
        assert_eq!((seen.reason, seen.headers.len()), (expected, 0));
        assert!(!seen.challenge.contains("use_dpop_nonce"));
    }
    // A thief gets one, and no further.
    let thief = Key::new("ES256");
    let nonce = nonce(&engine, NOW);
    let proof = thief.proof_with(&token, |_, c| c["nonce"] = nonce.into());
    let seen = World::new().ask(&engine, &proved(&token, proof));
    assert_eq!((seen.reason, seen.headers.len()), (Reason::ProofKeyMismatch, 0));
}

#[test]
fn use_dpop_nonce_is_told_whatever_else_is_hidden_since_a_client_could_not_go_on() {
    for hides in [false, true] {
        let engine = engine_with_nonces(|c| {
            c["expose_error_code"] = (!hides).into();
            c["realm"] = "api".into();
        });
        let key = Key::new("ES256");
        let token = key.token();
        let seen = World::new().ask(&engine, &proved(&token, key.proof(&token)));
        assert_eq!(seen.challenge, "DPoP realm=\"api\", error=\"use_dpop_nonce\", algs=\"ES256 PS256 EdDSA\"");
        let seen = World::new().ask(&engine, &authorized(format!("DPoP {token}")));
        let error = if hides { "" } else { "error=\"invalid_dpop_proof\", " };
        assert_eq!(seen.challenge, format!("DPoP realm=\"api\", {error}algs=\"ES256 PS256 EdDSA\""));
    }
}
