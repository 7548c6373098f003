//! Rules that hold for every input: nothing panics, nothing that was changed is allowed, strict JSON is JSON.

mod common;

use common::{CLIENT_A, NOW, config, header, mint};
use keybound::Verifier;
use keybound::cert::{self, ClientCertificate, Validity};
use keybound::jose::{json, jwk};
use proptest::prelude::*;

/// Text that is nearly JSON, so that the parser gets far.
fn nearly_json() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(":".to_owned()),
            Just(",".to_owned()),
            Just("\"cnf\"".to_owned()),
            Just("\"x5t#S256\"".to_owned()),
            Just("\"exp\"".to_owned()),
            Just("\"\\u0000\"".to_owned()),
            Just("null".to_owned()),
            Just("-1e9".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            "[ -~]{0,6}",
        ],
        0..40,
    )
    .prop_map(|parts| parts.concat())
}

thread_local! {
    static VERIFIER: Verifier = Verifier::new(&config(|_| {})).expect("valid");
}

fn verify(token: &[u8]) -> bool {
    VERIFIER.with(|v| v.verify(token, ClientCertificate::Der(CLIENT_A), NOW).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_parser_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = json::parse(&bytes);
        let _ = jwk::JwkSet::parse(&bytes);
        let _ = jwk::thumbprint(&bytes);
        let _ = Verifier::new(&bytes);
        let _ = Validity::of_der(&bytes);
        let _ = cert::sniff(&bytes).der();
        let _ = ClientCertificate::Pem(&bytes).der();
        prop_assert!(!verify(&bytes));
    }

    #[test]
    fn what_strict_json_accepts_is_json_with_the_same_value(text in nearly_json()) {
        if let Ok(value) = json::parse(text.as_bytes()) {
            let theirs: serde_json::Value = serde_json::from_str(&text).expect("also theirs");
            let ours: serde_json::Value = serde_json::from_str(&value.to_string()).expect("valid");
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn claims_of_any_shape_are_refused_without_a_panic(payload in nearly_json()) {
        let token = common::mint_raw("EdDSA", &header("EdDSA").to_string(), &payload);
        prop_assert!(!verify(token.as_bytes()));
    }

    #[test]
    fn a_changed_certificate_is_never_matched(at in 0..CLIENT_A.len(), bit in 0..8u32) {
        let token = GOOD.with(Clone::clone);
        let mut der = CLIENT_A.to_vec();
        der[at] ^= 1 << bit;
        let allowed = |der: &[u8]| VERIFIER.with(|v| v.verify(token.as_bytes(), ClientCertificate::Der(der), NOW).is_ok());
        prop_assert!(allowed(CLIENT_A));
        prop_assert!(!allowed(&der));
    }

    #[test]
    fn a_changed_token_is_never_allowed(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let token = GOOD.with(Clone::clone);
        prop_assert!(verify(token.as_bytes()));
        let mut changed = token.clone().into_bytes();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        prop_assert!(!verify(&changed), "byte {} to {}", at, byte);
        prop_assert!(!verify(&token.as_bytes()[..at]));
    }
}

thread_local! {
    static GOOD: String = mint("EdDSA", |_| {});
}
