//! Tokens that the authorization server is asked about (RFC 9449 §6.2).

use keybound::Reason;
use keybound::steps::StoreOperation;
use serde_json::{Value, json};

use crate::common::{CLIENT_A, NOW, x5t};
use crate::world::{Ask, Key, OPAQUE, SECRET, World, authorized, introspecting, proved};

/// What a request with an opaque token and a proof by this key gets, if the server says this.
fn decide(key: &Key, said: Value) -> Reason {
    World::saying(said).decide(&introspecting(|_| {}), &proved(OPAQUE, key.proof(OPAQUE)))
}

#[test]
fn rfc9449_6_a_an_opaque_token_is_bound_by_what_its_server_says() {
    let (key, thief) = (Key::new("ES256"), Key::new("ES256"));
    let said = json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}});
    assert_eq!(decide(&key, said.clone()), Reason::Allowed);
    assert_eq!(decide(&thief, said.clone()), Reason::ProofKeyMismatch);
    assert_eq!(decide(&key, json!({"exp": NOW + 600})), Reason::TokenNotDpopBound);
    assert_eq!(
        decide(&key, json!({"exp": NOW + 600, "cnf": {"x5t#S256": x5t(CLIENT_A)}})),
        Reason::ConfirmationUnsupported
    );
    assert_eq!(decide(&key, json!({"exp": NOW + 600, "cnf": {"jkt": "x"}})), Reason::ConfirmationMalformed);
    // A `jkt` that is not in `cnf` is none.
    assert_eq!(decide(&key, json!({"exp": NOW + 600, "jkt": key.jkt()})), Reason::TokenNotDpopBound);
    assert_eq!(decide(&key, json!({"active": false, "cnf": {"jkt": key.jkt()}})), Reason::TokenInactive);
    let bearer = World::saying(said).ask(&introspecting(|_| {}), &authorized(format!("Bearer {OPAQUE}")));
    // It is not even asked about.
    assert_eq!((bearer.reason, bearer.fetched.len()), (Reason::DpopSchemeRequired, 0));
}

#[test]
fn rfc9449_6_b_the_key_is_compared_for_what_is_remembered_too() {
    let (key, thief) = (Key::new("ES256"), Key::new("ES256"));
    let said = json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}});
    let (engine, mut world) = (introspecting(|_| {}), World::saying(said));
    let mut ask = |key: &Key| world.ask(&engine, &proved(OPAQUE, key.proof(OPAQUE)));
    let seen = [ask(&thief), ask(&key), ask(&thief), ask(&key)];
    let expected = [Reason::ProofKeyMismatch, Reason::Allowed, Reason::ProofKeyMismatch, Reason::Allowed];
    assert_eq!(seen.each_ref().map(|seen| seen.reason), expected);
    // Asked once, for the thief: the answer is about the token, and not about who sends it.
    assert_eq!(seen.each_ref().map(|seen| seen.fetched.len()), [1, 0, 0, 0]);
    // Another worker, by the store.
    let other = introspecting(|_| {});
    let seen = world.ask(&other, &proved(OPAQUE, thief.proof(OPAQUE)));
    assert_eq!((seen.reason, seen.fetched.len()), (Reason::ProofKeyMismatch, 0));
}

#[test]
fn rfc9449_6_2_a_token_type_is_dpop_where_there_is_a_jkt_and_only_there() {
    let key = Key::new("ES256");
    let jkt = || json!({"jkt": key.jkt()});
    for (token_type, cnf, scheme, expected) in [
        (json!("DPoP"), jkt(), "DPoP", Reason::Allowed),
        (json!("dpop"), jkt(), "DPoP", Reason::Allowed),
        (Value::Null, jkt(), "DPoP", Reason::Allowed),
        (json!("access_token"), jkt(), "DPoP", Reason::Allowed),
        (json!("Bearer"), jkt(), "DPoP", Reason::ConfirmationMalformed),
        (json!("bearer"), jkt(), "DPoP", Reason::ConfirmationMalformed),
        (json!("DPoP"), Value::Null, "DPoP", Reason::ConfirmationMalformed),
        (json!("DPoP"), Value::Null, "Bearer", Reason::ConfirmationMalformed),
        (json!("Bearer"), Value::Null, "Bearer", Reason::Allowed),
        (json!("Bearer"), jkt(), "Bearer", Reason::ConfirmationMalformed),
        (json!("DPoP"), jkt(), "Bearer", Reason::DpopSchemeRequired),
        (Value::Null, jkt(), "Bearer", Reason::DpopSchemeRequired),
        (json!("refresh_token"), jkt(), "DPoP", Reason::NotAnAccessToken),
        (json!("N_A"), jkt(), "DPoP", Reason::NotAnAccessToken),
    ] {
        let shown = format!("{token_type} {cnf} {scheme}");
        let mut said = json!({"exp": NOW + 600});
        if token_type != Value::Null {
            said["token_type"] = token_type;
        }
        if cnf != Value::Null {
            said["cnf"] = cnf;
        }
        let engine = introspecting(|c| c["proof_of_possession_dpop"] = "optional".into());
        let ask = Ask { proofs: vec![key.proof(OPAQUE)], ..authorized(format!("{scheme} {OPAQUE}")) };
        assert_eq!(World::saying(said).decide(&engine, &ask), expected, "{shown}");
    }
}

#[test]
fn rfc9449_6_2_b_the_server_is_sent_the_token_and_never_the_proof() {
    let key = Key::new("ES256");
    let proof = key.proof(OPAQUE);
    let mut world = World::saying(json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}}));
    let seen = world.ask(&introspecting(|_| {}), &proved(OPAQUE, proof.clone()));
    assert_eq!(seen.reason, Reason::Allowed);
    let [fetch] = &seen.fetched[..] else { panic!("one request") };
    assert!(!fetch.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("dpop")));
    let sent = format!("{} {:?} {}", fetch.url, fetch.headers, String::from_utf8_lossy(&fetch.body));
    assert!(sent.contains("opaque-token") && !sent.contains(&proof));
    let (_, signature) = proof.rsplit_once('.').expect("parts");
    assert!(!sent.contains(signature));
}

#[test]
fn whoever_has_no_proof_that_could_pass_causes_no_request() {
    let key = Key::new("ES256");
    let mut world = World::saying(json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}}));
    let engine = introspecting(|_| {});
    let method = key.proof_with(OPAQUE, |_, c| c["htm"] = "POST".into());
    for (ask, expected) in [
        (authorized(format!("DPoP {OPAQUE}")), Reason::ProofMissing),
        (proved(OPAQUE, "x"), Reason::ProofMalformed),
        (proved(OPAQUE, method), Reason::ProofMethodMismatch),
        (proved(OPAQUE, key.proof("another")), Reason::ProofTokenMismatch),
        (Ask { now: NOW + 61, ..proved(OPAQUE, key.proof(OPAQUE)) }, Reason::ProofExpired),
    ] {
        let seen = world.ask(&engine, &ask);
        assert_eq!((seen.reason, seen.fetched.len(), seen.stored.len()), (expected, 0, 0));
    }
    assert_eq!(world.ask(&engine, &proved(OPAQUE, key.proof(OPAQUE))).fetched.len(), 1);
    // Nor who has no nonce that is good.
    let engine = introspecting(|c| {
        c["dpop_use_nonce"] = true.into();
        c["dpop_nonce_secret"] = SECRET.into();
    });
    let seen = world.ask(&engine, &proved(OPAQUE, key.proof(OPAQUE)));
    assert_eq!((seen.reason, seen.fetched.len()), (Reason::ProofNonceMissing, 0));
    let nonce = seen.header("dpop-nonce").expect("a nonce");
    let proof = key.proof_with(OPAQUE, |_, c| c["nonce"] = nonce.into());
    let late = world.ask(&engine, &Ask { now: NOW + 61, ..proved(OPAQUE, proof.clone()) });
    assert_eq!((late.reason, late.fetched.len()), (Reason::ProofNonceInvalid, 0));
    assert_eq!(world.decide(&engine, &proved(OPAQUE, proof)), Reason::Allowed);
}

#[test]
fn a_jwt_that_is_asked_about_is_bound_by_both_and_they_must_agree() {
    let (key, other) = (Key::new("ES256"), Key::new("ES256"));
    let engine = || {
        introspecting(|c| {
            c["jwks"] = crate::common::jwks();
            c["auth_methods"] = json!(["bearer", "introspection"]);
            c["introspect_jwt_tokens"] = true.into();
        })
    };
    let unbound = key.token_with(|c| crate::common::without(c, "cnf"));
    let bound = key.token();
    let cnf = |key: &Key| json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}});
    for (token, said, signer, expected) in [
        (&bound, cnf(&key), &key, Reason::Allowed),
        (&bound, json!({"exp": NOW + 600}), &key, Reason::Allowed),
        (&bound, json!({"exp": NOW + 600}), &other, Reason::ProofKeyMismatch),
        (&bound, cnf(&other), &key, Reason::ConfirmationMalformed),
        (&bound, cnf(&other), &other, Reason::ProofKeyMismatch),
        (&unbound, cnf(&key), &key, Reason::TokenNotDpopBound),
    ] {
        let seen = World::saying(said).ask(&engine(), &proved(token, signer.proof(token)));
        assert_eq!(seen.reason, expected);
        assert_eq!(seen.spent().count(), usize::from(expected == Reason::Allowed));
    }
}

#[test]
fn a_jwt_that_is_bound_to_a_certificate_may_be_bound_to_a_key_by_what_its_server_says() {
    let key = Key::new("ES256");
    let token = key.token_with(|c| c["cnf"] = json!({"x5t#S256": x5t(CLIENT_A)}));
    let decide = |certificate, proof: String| {
        let engine = introspecting(|c| {
            c["jwks"] = crate::common::jwks();
            c["auth_methods"] = json!(["bearer", "introspection"]);
            c["introspect_jwt_tokens"] = true.into();
            c["proof_of_possession_mtls"] = "optional".into();
            c["proof_of_possession_dpop"] = "optional".into();
        });
        let said = json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}});
        let mut ask = Ask { certificate, ..authorized(format!("Bearer {token}")) };
        if !proof.is_empty() {
            ask.proofs.push(proof);
        }
        World::saying(said).decide(&engine, &ask)
    };
    // The JWT alone would pass with its certificate.
    assert_eq!(decide(Some(CLIENT_A), String::new()), Reason::DpopSchemeRequired);
    assert_eq!(decide(Some(CLIENT_A), key.proof(&token)), Reason::DpopSchemeRequired);
    assert_eq!(decide(None, String::new()), Reason::CertificateMissing);
}

#[test]
fn what_is_said_of_a_token_is_kept_before_its_proof_is() {
    let key = Key::new("ES256");
    let mut world = World::saying(json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}}));
    let seen = world.ask(&introspecting(|_| {}), &proved(OPAQUE, key.proof(OPAQUE)));
    let operations: Vec<_> = seen.stored.iter().map(|store| store.operation).collect();
    assert_eq!(operations.last(), Some(&StoreOperation::Add));
    assert!(operations.contains(&StoreOperation::Put));
    assert_eq!(seen.reason, Reason::Allowed);
}

// --- The examples of RFC 9449

const RFC_KEY: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19";
const RFC_JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const RFC_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
/// `iat` of its proof
const RFC_NOW: i64 = 1_562_262_618;

/// The request of §7.1 to a gateway of that time.
fn of_rfc(target: &str, proof: &str, jkt: &str) -> Reason {
    let engine = introspecting(|c| c["public_origin"] = "https://resource.example.org".into());
    let said = json!({"exp": RFC_NOW + 600, "cnf": {"jkt": jkt}, "token_type": "DPoP"});
    let ask = Ask {
        now: RFC_NOW,
        host: "resource.example.org",
        target: target.into(),
        ..proved(RFC_TOKEN, format!("{RFC_KEY}.{proof}"))
    };
    World::saying(said).decide(&engine, &ask)
}

#[test]
fn rfc9449_7_1_the_example_of_a_protected_resource_request_passes() {
    let proof = "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    assert_eq!(x5t(RFC_TOKEN.as_bytes()), "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    assert_eq!(of_rfc("/protectedresource", proof, RFC_JKT), Reason::Allowed);
    assert_eq!(of_rfc("/protectedResource", proof, RFC_JKT), Reason::ProofUriMismatch);
    assert_eq!(of_rfc("/protectedresource", proof, &x5t(b"x")), Reason::ProofKeyMismatch);
    let changed = proof.replace("2oW9RP", "2oW9RQ");
    assert_eq!(of_rfc("/protectedresource", &changed, RFC_JKT), Reason::ProofSignatureInvalid);
}

#[test]
fn rfc9449_4_3_12a_the_example_of_a_token_request_is_no_proof_for_a_resource() {
    // Figure 5: it has no `ath`.
    let proof = "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    assert_eq!(of_rfc("/token", proof, RFC_JKT), Reason::ProofMalformed);
}

#[test]
fn where_either_is_enough_a_bearer_token_without_certificate_is_not_asked_about() {
    let engine = introspecting(|c| {
        c["proof_of_possession_mtls"] = "strict".into();
        c["proof_of_possession_either"] = true.into();
    });
    let mut ask = authorized(format!("Bearer {OPAQUE}"));
    assert_eq!(World::begin(&engine, &ask).reason(), Some(Reason::CertificateMissing));
    ask.certificate = Some(CLIENT_A);
    assert_eq!(World::begin(&engine, &ask).reason(), None);
}
