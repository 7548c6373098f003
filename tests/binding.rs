//! The binding table of docs/binding.md, a test a cell: mode × certificate × confirmation.

mod common;

use common::{CLIENT_A, CLIENT_B, NOW, config, mint, without, x5t};
use keybound::cert::ClientCertificate;
use keybound::{Reason, Verifier};
use serde_json::json;

#[derive(Clone, Copy)]
enum Cnf {
    None,
    Match,
    Mismatch,
    Other,
    Malformed,
}

fn decide(mode: &str, cnf: Cnf, certificate: Option<&[u8]>) -> Reason {
    let verifier = Verifier::new(&config(|c| c["proof_of_possession_mtls"] = mode.into())).expect("valid");
    let token = mint("ES256", |claims| match cnf {
        Cnf::None => without(claims, "cnf"),
        Cnf::Match => claims["cnf"] = json!({"x5t#S256": x5t(CLIENT_A)}),
        Cnf::Mismatch => claims["cnf"] = json!({"x5t#S256": x5t(CLIENT_B)}),
        Cnf::Other => claims["cnf"] = json!({"jkt": x5t(CLIENT_A)}),
        Cnf::Malformed => claims["cnf"] = json!({"x5t#S256": format!("{}=", x5t(CLIENT_A))}),
    });
    let certificate = certificate.map_or(ClientCertificate::Absent, ClientCertificate::Der);
    match verifier.verify(token.as_bytes(), certificate, NOW) {
        Ok(_) => Reason::Allowed,
        Err(reason) => reason,
    }
}

macro_rules! cells {
    ($($name:ident: $mode:literal, $cnf:ident, $certificate:expr => $reason:ident;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(decide($mode, Cnf::$cnf, $certificate), Reason::$reason);
        })*
    };
}

cells! {
    strict_without_certificate_no_cnf_is_refused_8705_3_f: "strict", None, None => TokenUnbound;
    strict_without_certificate_match_is_refused_8705_3_e: "strict", Match, None => CertificateMissing;
    strict_without_certificate_mismatch_is_refused: "strict", Mismatch, None => CertificateMissing;
    strict_without_certificate_other_member_is_refused: "strict", Other, None => ConfirmationUnsupported;
    strict_without_certificate_malformed_is_refused: "strict", Malformed, None => ConfirmationMalformed;
    strict_with_certificate_no_cnf_is_refused_8705_3_f: "strict", None, Some(CLIENT_A) => TokenUnbound;
    strict_with_certificate_match_is_allowed_8705_3_b: "strict", Match, Some(CLIENT_A) => Allowed;
    strict_with_certificate_mismatch_is_refused_8705_3_b: "strict", Mismatch, Some(CLIENT_A) => CertificateMismatch;
    strict_with_certificate_other_member_is_refused: "strict", Other, Some(CLIENT_A) => ConfirmationUnsupported;
    strict_with_certificate_malformed_is_refused: "strict", Malformed, Some(CLIENT_A) => ConfirmationMalformed;

    optional_without_certificate_no_cnf_is_allowed: "optional", None, None => Allowed;
    optional_without_certificate_match_is_refused_8705_3_e: "optional", Match, None => CertificateMissing;
    optional_without_certificate_mismatch_is_refused: "optional", Mismatch, None => CertificateMissing;
    optional_without_certificate_other_member_is_refused: "optional", Other, None => ConfirmationUnsupported;
    optional_without_certificate_malformed_is_refused: "optional", Malformed, None => ConfirmationMalformed;
    optional_with_certificate_no_cnf_is_allowed: "optional", None, Some(CLIENT_A) => Allowed;
    optional_with_certificate_match_is_allowed: "optional", Match, Some(CLIENT_A) => Allowed;
    optional_with_certificate_mismatch_is_refused: "optional", Mismatch, Some(CLIENT_A) => CertificateMismatch;
    optional_with_certificate_other_member_is_refused: "optional", Other, Some(CLIENT_A) => ConfirmationUnsupported;
    optional_with_certificate_malformed_is_refused: "optional", Malformed, Some(CLIENT_A) => ConfirmationMalformed;

    off_without_certificate_no_cnf_is_allowed: "off", None, None => Allowed;
    off_without_certificate_match_is_allowed: "off", Match, None => Allowed;
    off_without_certificate_mismatch_is_allowed: "off", Mismatch, None => Allowed;
    off_without_certificate_other_member_is_allowed: "off", Other, None => Allowed;
    off_without_certificate_malformed_is_allowed: "off", Malformed, None => Allowed;
    off_with_certificate_no_cnf_is_allowed: "off", None, Some(CLIENT_A) => Allowed;
    off_with_certificate_match_is_allowed: "off", Match, Some(CLIENT_A) => Allowed;
    off_with_certificate_mismatch_is_allowed: "off", Mismatch, Some(CLIENT_A) => Allowed;
    off_with_certificate_other_member_is_allowed: "off", Other, Some(CLIENT_A) => Allowed;
    off_with_certificate_malformed_is_allowed: "off", Malformed, Some(CLIENT_A) => Allowed;
}

#[test]
fn the_default_mode_is_strict() {
    let verifier = Verifier::new(&config(|_| {})).expect("valid");
    let unbound = mint("ES256", |claims| without(claims, "cnf"));
    let decision = verifier.verify(unbound.as_bytes(), ClientCertificate::Der(CLIENT_A), NOW);
    assert_eq!(decision.err(), Some(Reason::TokenUnbound));
}

#[test]
fn rfc8705_3_b_one_changed_octet_of_the_certificate_is_another_certificate() {
    let verifier = Verifier::new(&config(|_| {})).expect("valid");
    let token = mint("ES256", |_| {});
    // The signature at the end: same subject, same key.
    let mut other = CLIENT_A.to_vec();
    *other.last_mut().expect("not empty") ^= 1;
    let decide = |der: &[u8]| verifier.verify(token.as_bytes(), ClientCertificate::Der(der), NOW).err();
    assert_eq!(decide(CLIENT_A), None);
    assert_eq!(decide(&other), Some(Reason::CertificateMismatch));
}

#[test]
fn a_certificate_that_is_not_exactly_one_is_refused_in_every_form() {
    let verifier = Verifier::new(&config(|_| {})).expect("valid");
    let token = mint("ES256", |_| {});
    let two = [CLIENT_A, CLIENT_B].concat();
    for certificate in [ClientCertificate::Der(&two), ClientCertificate::Der(b""), ClientCertificate::Pem(CLIENT_A)] {
        let decision = verifier.verify(token.as_bytes(), certificate, NOW);
        assert_eq!(decision.err(), Some(Reason::CertificateMalformed), "{certificate:?}");
    }
}

#[test]
fn the_validity_of_the_certificate_is_checked_on_each_request_by_option() {
    let validity = keybound::cert::Validity::of_der(CLIENT_A).expect("parses");
    let token = mint("ES256", |claims| {
        claims["iat"] = 0.into();
        claims["exp"] = (validity.not_after + 1000).into();
    });
    let decide = |on: bool, now: i64| {
        let verifier = Verifier::new(&config(|c| c["client_certificate_validity"] = on.into())).expect("valid");
        verifier.verify(token.as_bytes(), ClientCertificate::Der(CLIENT_A), now).err()
    };
    assert_eq!(decide(true, validity.not_before), None);
    assert_eq!(decide(true, validity.not_after), None);
    assert_eq!(decide(true, validity.not_before - 1), Some(Reason::CertificateNotYetValid));
    assert_eq!(decide(true, validity.not_after + 1), Some(Reason::CertificateExpired));
    assert_eq!(decide(false, validity.not_before - 1), None);
    assert_eq!(decide(false, validity.not_after + 1), None);
}

#[test]
fn a_certificate_whose_dates_cannot_be_read_is_refused_only_where_they_matter() {
    let not_x509 = [0x30, 3, 2, 1, 0];
    let token = mint("ES256", |claims| claims["cnf"] = json!({"x5t#S256": x5t(&not_x509)}));
    let decide = |on: bool| {
        let verifier = Verifier::new(&config(|c| c["client_certificate_validity"] = on.into())).expect("valid");
        verifier.verify(token.as_bytes(), ClientCertificate::Der(&not_x509), NOW).err()
    };
    assert_eq!(decide(false), None);
    assert_eq!(decide(true), Some(Reason::CertificateMalformed));
}
