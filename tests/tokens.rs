//! What a JWT must be to pass (RFC 9068 §4): each refusal beside the token that passes and differs in one thing.

mod common;

use common::{ALGORITHMS, AUDIENCE, CLIENT_A, ISSUER, NOW, b64, claims, config, header, mint, mint_raw, without};
use keybound::cert::ClientCertificate;
use keybound::{Reason, Verifier};
use serde_json::{Value, json};

fn verifier(change: impl FnOnce(&mut Value)) -> Verifier {
    Verifier::new(&config(change)).expect("valid configuration")
}

fn decide(verifier: &Verifier, token: &str) -> Reason {
    match verifier.verify(token.as_bytes(), ClientCertificate::Der(CLIENT_A), NOW) {
        Ok(verified) => {
            assert!(serde_json::from_slice::<Value>(&verified.claims).is_ok_and(|c| c["iss"] == ISSUER));
            Reason::Allowed
        }
        Err(reason) => reason,
    }
}

/// What becomes of a token with one claim changed.
fn with_claim(verifier: &Verifier, name: &str, value: Value) -> Reason {
    decide(verifier, &mint("ES256", |claims| claims[name] = value))
}

fn with_header(verifier: &Verifier, change: impl FnOnce(&mut Value)) -> Reason {
    let mut header = header("ES256");
    change(&mut header);
    decide(verifier, &mint_raw("ES256", &header.to_string(), &claims().to_string()))
}

#[test]
fn rfc9068_2_1_a_every_algorithm_of_the_build_verifies() {
    let mut algorithms = ALGORITHMS.to_vec();
    if cfg!(feature = "aws-lc") {
        algorithms.push("ES512");
    }
    let verifier = verifier(|c| c["jwks"]["keys"] = algorithms.iter().map(|a| common::named_jwk(a)).collect());
    for alg in algorithms {
        assert_eq!(decide(&verifier, &mint(alg, |_| {})), Reason::Allowed, "{alg}");
    }
}

#[test]
fn rfc7515_10_6_a_a_changed_bit_anywhere_is_refused() {
    let verifier = verifier(|_| {});
    for alg in ALGORITHMS {
        let token = mint(alg, |_| {});
        assert_eq!(decide(&verifier, &token), Reason::Allowed);
        let mut parts: Vec<&str> = token.split('.').collect();
        let changed = mint(alg, |claims| claims["sub"] = "mallory".into());
        let payload = changed.split('.').nth(1).expect("payload");
        parts[1] = payload;
        assert_eq!(decide(&verifier, &parts.join(".")), Reason::SignatureInvalid, "{alg}");
        let start = token.rfind('.').expect("signature") + 1;
        for at in (start..token.len() - 1).step_by(7) {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let token = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(decide(&verifier, &token), Reason::SignatureInvalid, "{alg} {at}");
        }
    }
}

#[test]
fn rfc7518_3_4_a_a_signature_has_exactly_the_length_of_its_algorithm() {
    let verifier = verifier(|_| {});
    for alg in ALGORITHMS {
        let token = mint(alg, |_| {});
        let (signed, _) = token.rsplit_once('.').expect("signature");
        let good = common::sign(alg, signed.as_bytes());
        let zeros = vec![0; good.len()];
        let longer = [&good[..], &[0]].concat();
        let padded = [&[0], &good[..]].concat();
        for bad in [&good[1..], &good[..good.len() - 1], &longer, &padded, &zeros, b"", b"\0"] {
            let token = format!("{signed}.{}", b64(bad));
            assert_eq!(decide(&verifier, &token), Reason::SignatureInvalid, "{alg} {}", bad.len());
        }
    }
}

#[test]
fn an_ecdsa_signature_in_der_is_refused() {
    let verifier = verifier(|_| {});
    let token = mint("ES256", |_| {});
    let (signed, _) = token.rsplit_once('.').expect("signature");
    let rng = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, common::pkcs8("ES256"), &rng).expect("key");
    let der = pair.sign(&rng, signed.as_bytes()).expect("signature");
    assert_eq!(decide(&verifier, &format!("{signed}.{}", b64(der.as_ref()))), Reason::SignatureInvalid);
}

#[test]
fn rfc8725_3_1_b_a_key_verifies_only_its_own_algorithm() {
    // The RSA key is named for PS256 only; the token is a right RS256 signature by the same key.
    let mut key = common::named_jwk("PS256");
    key["kid"] = "k".into();
    let verifier = verifier(|c| c["jwks"] = json!({"keys": [key]}));
    let token =
        |alg: &str| mint_raw(alg, &json!({"alg": alg, "typ": "at+jwt", "kid": "k"}).to_string(), &claims().to_string());
    assert_eq!(decide(&verifier, &token("PS256")), Reason::Allowed);
    assert_eq!(decide(&verifier, &token("RS256")), Reason::KeyUnknown);
}

#[test]
fn rfc8725_3_1_a_only_configured_algorithms_are_used() {
    let verifier = verifier(|c| c["algorithms"] = json!(["PS256", "EdDSA"]));
    for alg in ALGORITHMS {
        let expected = if matches!(*alg, "PS256" | "EdDSA") { Reason::Allowed } else { Reason::AlgorithmRefused };
        assert_eq!(decide(&verifier, &mint(alg, |_| {})), expected, "{alg}");
    }
}

#[test]
fn rfc9068_2_1_b_none_and_hmac_with_the_public_key_are_refused() {
    let verifier = verifier(|_| {});
    let payload = b64(claims().to_string().as_bytes());
    for alg in ["none", "None", "nOnE", "HS256", "HS384", "HS512"] {
        let header = b64(json!({"alg": alg, "typ": "at+jwt", "kid": "ES256"}).to_string().as_bytes());
        let signed = format!("{header}.{payload}");
        let secret = common::jwks().to_string();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let mac = ring::hmac::sign(&key, signed.as_bytes());
        for signature in ["", &b64(mac.as_ref())] {
            assert_eq!(decide(&verifier, &format!("{signed}.{signature}")), Reason::AlgorithmRefused, "{alg}");
        }
    }
}

#[test]
fn rfc7515_4_1_2_a_a_key_in_the_token_never_verifies_it() {
    let rng = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &rng).expect("key");
    let thief = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).expect("key");
    let point = ring::signature::KeyPair::public_key(&thief).as_ref();
    let (x, y) = point[1..].split_at(32);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)});
    let verifier = verifier(|_| {});
    for kid in ["ES256", "unknown", "../../dev/null", "' OR 1=1 --"] {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid, "jwk": jwk, "jku": "https://thief.test/jwks"});
        let signed = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims().to_string().as_bytes()));
        let signature = thief.sign(&rng, signed.as_bytes()).expect("signature");
        let expected = if kid == "ES256" { Reason::SignatureInvalid } else { Reason::KeyUnknown };
        assert_eq!(decide(&verifier, &format!("{signed}.{}", b64(signature.as_ref()))), expected, "{kid}");
    }
}

#[test]
fn a_token_without_kid_is_tried_with_the_keys_that_fit() {
    let verifier = verifier(|_| {});
    assert_eq!(with_header(&verifier, |h| without(h, "kid")), Reason::Allowed);
    assert_eq!(with_header(&verifier, |h| h["kid"] = "nobody".into()), Reason::KeyUnknown);
}

#[test]
fn rfc9068_4_a_the_type_is_at_jwt_unless_the_operator_says_otherwise() {
    let strict = verifier(|_| {});
    let lax = verifier(|c| c["token_types"] = json!(["at+jwt", "JWT"]));
    for (typ, by_default, by_option) in [
        (json!("at+jwt"), Reason::Allowed, Reason::Allowed),
        (json!("application/AT+JWT"), Reason::Allowed, Reason::Allowed),
        (json!("JWT"), Reason::TypeRefused, Reason::Allowed),
        (json!("dpop+jwt"), Reason::TypeRefused, Reason::TypeRefused),
        (json!("token-introspection+jwt"), Reason::TypeRefused, Reason::TypeRefused),
        (json!("logout+jwt"), Reason::TypeRefused, Reason::TypeRefused),
        (json!(""), Reason::TypeRefused, Reason::TypeRefused),
        (json!(null), Reason::HeaderMalformed, Reason::HeaderMalformed),
    ] {
        assert_eq!(with_header(&strict, |h| h["typ"] = typ.clone()), by_default, "{typ}");
        assert_eq!(with_header(&lax, |h| h["typ"] = typ.clone()), by_option, "{typ}");
    }
    assert_eq!(with_header(&strict, |h| without(h, "typ")), Reason::TypeRefused);
    assert_eq!(with_header(&lax, |h| without(h, "typ")), Reason::TypeRefused);
}

#[test]
fn rfc8725_3_12_a_an_id_token_is_no_access_token() {
    let verifier = verifier(|c| c["token_types"] = json!(["at+jwt", "JWT"]));
    let with = |change: fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "ES256"});
        decide(&verifier, &mint_raw("ES256", &header.to_string(), &claims.to_string()))
    };
    assert_eq!(with(|_| {}), Reason::Allowed);
    assert_eq!(with(|c| without(c, "scope")), Reason::Allowed);
    let foreign: [fn(&mut Value); 9] = [
        |c| c["nonce"] = "n".into(),
        |c| c["nonce"] = json!(null),
        |c| c["at_hash"] = "h".into(),
        |c| c["c_hash"] = "h".into(),
        |c| c["s_hash"] = "h".into(),
        |c| c["events"] = json!({}),
        |c| c["typ"] = "ID".into(),
        |c| c["typ"] = "refresh".into(),
        |c| c["typ"] = "Logout".into(),
    ];
    for change in foreign {
        assert_eq!(with(change), Reason::NotAnAccessToken);
    }
    assert_eq!(with(|c| c["typ"] = "Bearer".into()), Reason::Allowed);
    let neither = |c: &mut Value| {
        without(c, "scope");
        without(c, "client_id");
    };
    assert_eq!(with(neither), Reason::NotAnAccessToken);
}

/// Token shapes of servers that do not write RFC 9068 tokens, and the options that admit them.
#[test]
fn tokens_of_servers_in_the_field_are_admitted_by_option() {
    let decide = |config: Value, header: Value, change: fn(&mut Value)| {
        let verifier = verifier(|c| {
            for (name, value) in config.as_object().expect("object") {
                c[name] = value.clone();
            }
        });
        let mut claims = claims();
        for name in ["client_id", "scope", "jti"] {
            without(&mut claims, name);
        }
        change(&mut claims);
        let header = json!({"alg": "ES256", "kid": "ES256"}).as_object().map(|h| {
            let mut h = h.clone();
            h.extend(header.as_object().expect("object").clone());
            Value::Object(h)
        });
        decide(&verifier, &mint_raw("ES256", &header.expect("object").to_string(), &claims.to_string()))
    };
    let jwt = json!({"typ": "JWT"});
    let types = json!({"token_types": ["JWT"]});
    let scope: fn(&mut Value) = |c| c["scope"] = "read".into();
    // No typ at all: Spring, Okta, PingFederate, Cognito.
    assert_eq!(decide(types.clone(), json!({}), scope), Reason::TypeRefused);
    assert_eq!(decide(json!({"token_types": ["none"]}), json!({}), scope), Reason::Allowed);
    // Entra, for applications: roles and azp.
    let entra: fn(&mut Value) = |c| {
        c["roles"] = json!(["x"]);
        c["azp"] = "app".into();
    };
    assert_eq!(decide(types.clone(), jwt.clone(), entra), Reason::Allowed);
    assert_eq!(decide(types.clone(), jwt.clone(), |c| c["azp"] = "app".into()), Reason::NotAnAccessToken);
    // Auth0, for applications: azp alone, so the operator says what is required.
    let auth0 = json!({"token_types": ["JWT"], "claims_required": ["azp", "gty"]});
    let m2m: fn(&mut Value) = |c| {
        c["azp"] = "app".into();
        c["gty"] = "client-credentials".into();
    };
    assert_eq!(decide(auth0.clone(), jwt.clone(), m2m), Reason::Allowed);
    assert_eq!(decide(auth0, jwt.clone(), |c| c["azp"] = "app".into()), Reason::ClaimMissing);
    // Keycloak before 24: a nonce in the access token.
    let nonce: fn(&mut Value) = |c| {
        c["scope"] = "read".into();
        c["nonce"] = "n".into();
    };
    assert_eq!(decide(types, jwt.clone(), nonce), Reason::NotAnAccessToken);
    let forbidden = json!({"token_types": ["JWT"], "claims_forbidden": ["at_hash"]});
    assert_eq!(decide(forbidden, jwt.clone(), nonce), Reason::Allowed);
    // Keycloak without an audience: the client is the audience.
    let azp = json!({"token_types": ["JWT"], "audience_claim": ["azp"], "audience_required": ["app"]});
    let no_aud: fn(&mut Value) = |c| {
        without(c, "aud");
        c["azp"] = "app".into();
        c["scope"] = "read".into();
    };
    assert_eq!(decide(azp.clone(), jwt.clone(), no_aud), Reason::Allowed);
    assert_eq!(decide(azp, jwt, scope), Reason::ClaimMissing);
}

#[test]
fn token_types_is_the_whole_list() {
    let jwt_only = verifier(|c| c["token_types"] = json!(["JWT"]));
    assert_eq!(with_header(&jwt_only, |h| h["typ"] = "JWT".into()), Reason::Allowed);
    assert_eq!(with_header(&jwt_only, |_| {}), Reason::TypeRefused);
}

#[test]
fn rfc9068_2_2_a_required_claims_must_be_there() {
    let verifier = verifier(|_| {});
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        assert_eq!(decide(&verifier, &mint("ES256", |c| without(c, name))), Reason::ClaimMissing, "{name}");
    }
    assert_eq!(decide(&verifier, &mint("ES256", |c| without(c, "scope"))), Reason::Allowed);
}

#[test]
fn claims_required_replaces_the_list_but_never_iss_exp_and_aud() {
    let verifier = verifier(|c| c["claims_required"] = json!(["tenant"]));
    let tenant = |c: &mut Value| c["tenant"] = "t".into();
    assert_eq!(decide(&verifier, &mint("ES256", |_| {})), Reason::ClaimMissing);
    assert_eq!(with_claim(&verifier, "tenant", json!(null)), Reason::ClaimMissing);
    let relaxed = |c: &mut Value| {
        tenant(c);
        for name in ["sub", "client_id", "iat", "jti"] {
            without(c, name);
        }
    };
    assert_eq!(decide(&verifier, &mint("ES256", relaxed)), Reason::Allowed);
    for name in ["iss", "exp", "aud"] {
        let token = mint("ES256", |c| {
            tenant(c);
            without(c, name);
        });
        assert_eq!(decide(&verifier, &token), Reason::ClaimMissing, "{name}");
    }
}

#[test]
fn claims_have_three_states_and_malformed_refuses() {
    let verifier = verifier(|_| {});
    let values = [json!(null), json!(true), json!([]), json!({}), json!("1"), json!(1e300)];
    for name in ["exp", "nbf", "iat"] {
        for value in &values {
            assert_eq!(with_claim(&verifier, name, value.clone()), Reason::ClaimsMalformed, "{name} {value}");
        }
    }
    for name in ["iss", "sub", "client_id", "jti"] {
        for value in [json!(null), json!(1), json!(["x"]), json!({})] {
            assert_eq!(with_claim(&verifier, name, value.clone()), Reason::ClaimsMalformed, "{name} {value}");
        }
    }
    for value in [json!(null), json!(1), json!({}), json!([AUDIENCE, 1]), json!([AUDIENCE, null])] {
        assert_eq!(with_claim(&verifier, "aud", value.clone()), Reason::ClaimsMalformed, "{value}");
    }
}

#[test]
fn rfc9068_4_c_the_issuer_is_compared_exactly() {
    let verifier = verifier(|_| {});
    for issuer in
        ["https://as.test/", "https://AS.test", "https://as.tes", "https://as.test.evil", "", "http://as.test"]
    {
        assert_eq!(with_claim(&verifier, "iss", issuer.into()), Reason::IssuerMismatch, "{issuer}");
    }
}

#[test]
fn rfc9068_4_d_the_audience_must_be_ours() {
    let verifier = verifier(|_| {});
    assert_eq!(with_claim(&verifier, "aud", json!(["https://other.test", AUDIENCE])), Reason::Allowed);
    for audience in
        [json!("https://api.test/"), json!("https://API.test"), json!("api.test"), json!([]), json!(["x"]), json!("")]
    {
        assert_eq!(with_claim(&verifier, "aud", audience.clone()), Reason::AudienceMismatch, "{audience}");
    }
}

#[test]
fn any_audience_passes_only_where_the_operator_says_so_by_name() {
    let verifier = verifier(|c| {
        without(c, "audience_required");
        c["insecure_any_audience"] = true.into();
    });
    assert_eq!(with_claim(&verifier, "aud", "x".into()), Reason::Allowed);
    assert_eq!(decide(&verifier, &mint("ES256", |c| without(c, "aud"))), Reason::Allowed);
}

#[test]
fn times_are_checked_with_the_configured_leeway() {
    let exact = verifier(|_| {});
    let lenient = verifier(|c| c["leeway"] = 30.into());
    assert_eq!(with_claim(&exact, "exp", (NOW + 1).into()), Reason::Allowed);
    assert_eq!(with_claim(&exact, "exp", NOW.into()), Reason::TokenExpired);
    assert_eq!(with_claim(&lenient, "exp", (NOW - 29).into()), Reason::Allowed);
    assert_eq!(with_claim(&lenient, "exp", (NOW - 30).into()), Reason::TokenExpired);
    assert_eq!(with_claim(&exact, "nbf", (NOW + 11).into()), Reason::TokenNotYetValid);
    assert_eq!(with_claim(&lenient, "nbf", (NOW + 11).into()), Reason::Allowed);
    assert_eq!(with_claim(&exact, "iat", (NOW + 61).into()), Reason::TokenIssuedInFuture);
    assert_eq!(with_claim(&exact, "exp", json!(-1)), Reason::TokenExpired);
    assert_eq!(with_claim(&exact, "exp", json!(NOW as f64 + 0.5)), Reason::TokenExpired);
    assert_eq!(with_claim(&exact, "exp", json!(NOW as f64 + 1.5)), Reason::Allowed);
}

#[test]
fn rfc9068_4_h_scopes_groups_and_roles_are_required_by_kongs_rule() {
    for (required, claim, reason) in [
        ("scopes_required", "scope", Reason::InsufficientScope),
        ("groups_required", "groups", Reason::InsufficientGroups),
        ("roles_required", "roles", Reason::InsufficientRoles),
    ] {
        let verifier = verifier(|c| c[required] = json!(["a b", "c"]));
        for (value, expected) in [
            (json!("a b"), Reason::Allowed),
            (json!(["b", "a"]), Reason::Allowed),
            (json!("c"), Reason::Allowed),
            (json!("a"), reason),
            (json!("ab"), reason),
            (json!(["a b"]), reason),
            (json!(["former c"]), reason),
            (json!(1), Reason::ClaimsMalformed),
        ] {
            assert_eq!(with_claim(&verifier, claim, value.clone()), expected, "{claim} {value}");
        }
        assert_eq!(decide(&verifier, &mint("ES256", |c| without(c, claim))), reason);
    }
}

#[test]
fn a_group_with_spaces_in_its_name_is_one_group() {
    let verifier = verifier(|c| c["groups_required"] = json!([["Domain Admins"]]));
    assert_eq!(with_claim(&verifier, "groups", json!(["x", "Domain Admins"])), Reason::Allowed);
    assert_eq!(with_claim(&verifier, "groups", json!(["Domain Users", "Print Admins"])), Reason::InsufficientGroups);
    assert_eq!(with_claim(&verifier, "groups", json!(["Domain", "Admins"])), Reason::InsufficientGroups);
}

#[test]
fn a_nested_claim_path_is_followed() {
    let verifier = verifier(|c| {
        c["roles_required"] = json!(["admin"]);
        c["roles_claim"] = json!(["realm_access", "roles"]);
    });
    assert_eq!(with_claim(&verifier, "realm_access", json!({"roles": ["admin"]})), Reason::Allowed);
    assert_eq!(with_claim(&verifier, "roles", json!(["admin"])), Reason::InsufficientRoles);
}

#[test]
fn a_403_needs_a_good_signature() {
    let verifier = verifier(|c| c["scopes_required"] = json!(["admin"]));
    let token = mint("ES256", |_| {});
    assert_eq!(decide(&verifier, &token), Reason::InsufficientScope);
    let forged = format!("{}.{}", token.rsplit_once('.').expect("parts").0, b64(&[1; 64]));
    assert_eq!(decide(&verifier, &forged), Reason::SignatureInvalid);
}

#[test]
fn rfc7519_4_a_duplicate_members_of_header_or_claims_refuse() {
    let verifier = verifier(|_| {});
    let claims = claims().to_string();
    let twice = format!("{},\"sub\":\"bob\"}}", claims.trim_end_matches('}').to_owned() + "}");
    assert!(twice.contains("alice") && twice.contains("bob"));
    assert_eq!(decide(&verifier, &mint_raw("ES256", &header("ES256").to_string(), &twice)), Reason::ClaimsMalformed);
    let header = r#"{"alg":"ES256","typ":"at+jwt","kid":"ES256","kid":"ES256"}"#;
    assert_eq!(decide(&verifier, &mint_raw("ES256", header, &claims)), Reason::HeaderMalformed);
}

#[test]
fn claims_that_are_no_object_refuse() {
    let verifier = verifier(|_| {});
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
    for payload in ["", "null", "[]", "\"x\"", "{}x", "\u{feff}{}", &deep] {
        let token = mint_raw("ES256", &header("ES256").to_string(), payload);
        assert_eq!(decide(&verifier, &token), Reason::ClaimsMalformed, "{payload}");
    }
}

/// Signs for `jsonwebtoken` with ring, so that a token made by another library's code is seen to pass.
mod provider {
    use super::common;
    use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
    use jsonwebtoken::signature::{Error, Signer};
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, errors};

    struct Ring(Algorithm);

    impl Signer<Vec<u8>> for Ring {
        fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
            Ok(common::sign(&format!("{:?}", self.0), message))
        }
    }

    impl JwtSigner for Ring {
        fn algorithm(&self) -> Algorithm {
            self.0
        }
    }

    fn signer(algorithm: &Algorithm, _: &EncodingKey) -> errors::Result<Box<dyn JwtSigner>> {
        Ok(Box::new(Ring(*algorithm)))
    }

    fn verifier(_: &Algorithm, _: &DecodingKey) -> errors::Result<Box<dyn JwtVerifier>> {
        Err(errors::ErrorKind::InvalidAlgorithm.into())
    }

    pub(super) static PROVIDER: CryptoProvider =
        CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };
}

#[test]
fn a_token_minted_by_jsonwebtoken_passes() {
    provider::PROVIDER.install_default().expect("the only one");
    let verifier = verifier(|_| {});
    for (algorithm, key) in [
        (jsonwebtoken::Algorithm::ES256, jsonwebtoken::EncodingKey::from_ec_der(common::pkcs8("ES256"))),
        (jsonwebtoken::Algorithm::PS256, jsonwebtoken::EncodingKey::from_rsa_der(common::pkcs8("PS256"))),
        (jsonwebtoken::Algorithm::EdDSA, jsonwebtoken::EncodingKey::from_ed_der(common::pkcs8("EdDSA"))),
    ] {
        let mut header = jsonwebtoken::Header::new(algorithm);
        header.typ = Some("at+jwt".into());
        header.kid = Some(format!("{algorithm:?}"));
        let token = jsonwebtoken::encode(&header, &claims(), &key).expect("encodes");
        assert_eq!(decide(&verifier, &token), Reason::Allowed, "{algorithm:?}");
    }
}
