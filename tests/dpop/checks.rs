//! RFC 9449 §4.3, check by check.

use keybound::Reason;
use serde_json::{Value, json};

use crate::common::{self, CLIENT_A, ISSUER, NOW, b64, mint_raw, x5t};
use crate::world::{Ask, Key, OPAQUE, World, authorized, bare, decide, engine, introspecting, proof_claims, proved};

/// What a request gets whose proof was changed in header or claims, and then signed.
fn changed(change: impl FnOnce(&mut Value, &mut Value)) -> Reason {
    let key = Key::new("ES256");
    let token = key.token();
    decide(&proved(&token, key.proof_with(&token, change)))
}

/// Likewise with a header and claims in JSON of any kind.
fn of_text(edit: impl FnOnce(&mut String, &mut String)) -> Reason {
    let key = Key::new("ES256");
    let token = key.token();
    let (mut header, mut claims) = (key.header().to_string(), proof_claims(&token).to_string());
    edit(&mut header, &mut claims);
    decide(&proved(&token, key.jws(&header, &claims)))
}

#[test]
fn rfc9449_7_a_a_good_token_with_a_good_proof_passes() {
    assert_eq!(changed(|_, _| {}), Reason::Allowed);
    assert_eq!(of_text(|_, _| {}), Reason::Allowed);
}

// --- 1: one header

#[test]
fn rfc9449_4_3_1_more_than_one_header_is_refused_even_if_each_is_good() {
    let key = Key::new("ES256");
    let token = key.token();
    let (one, other) = (key.proof(&token), key.proof(&token));
    let with = |proofs: &[&str]| {
        let proofs = proofs.iter().map(|proof| (*proof).to_owned()).collect();
        decide(&Ask { proofs, ..authorized(format!("DPoP {token}")) })
    };
    assert_eq!(with(&[&one]), Reason::Allowed);
    assert_eq!(with(&[]), Reason::ProofMissing);
    assert_eq!(with(&[&one, &other]), Reason::ProofRepeated);
    assert_eq!(with(&[&one, &one]), Reason::ProofRepeated);
    assert_eq!(with(&["", &one]), Reason::ProofRepeated);
    // Joined by a proxy.
    for joined in [format!("{one}, {other}"), format!("{one},{other}"), format!("{one},"), format!(",{one}")] {
        assert_eq!(with(&[&joined]), Reason::ProofRepeated, "{joined}");
    }
}

// --- 2: one well-formed JWT

#[test]
fn rfc9449_4_3_2_the_value_is_one_compact_jws_in_canonical_base64url() {
    let key = Key::new("ES256");
    let token = key.token();
    let proof = key.proof(&token);
    let with = |proof: String| decide(&proved(&token, proof));
    let [header, claims, signature] = proof.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    assert_eq!(with([header, claims, signature].join(".")), Reason::Allowed);
    let flattened = json!({"protected": header, "payload": claims, "signature": signature}).to_string();
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "x".into(),
        header.into(),
        [header, claims].join("."),
        ["", claims, signature].join("."),
        [header, "", signature].join("."),
        [header, claims, signature, ""].join("."),
        [header, claims, signature, signature].join("."),
        [header, claims, signature, signature, signature].join("."),
        format!("{proof}="),
        format!("{proof} "),
        format!(" {proof}"),
        format!("{proof}\n"),
        format!("DPoP {proof}"),
        format!("\"{proof}\""),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        format!("{header}.{claims}.+{}", &signature[1..]),
        format!("{header}.{claims}.{signature}\u{e9}"),
        flattened.replace(',', ";"),
    ] {
        assert_eq!(with(bad.clone()), Reason::ProofMalformed, "{bad:?}");
    }
    // A signature of nothing is well-formed.
    assert_eq!(with([header, claims, ""].join(".")), Reason::ProofSignatureInvalid);
    // With commas in it, it cannot even be one value.
    assert_eq!(with(flattened), Reason::ProofRepeated);
    // The last character of 64 octets carries four unused bits.
    let last = signature.chars().last().expect("not empty");
    for stray in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().filter(|c| *c != last) {
        let other = format!("{header}.{claims}.{}{stray}", &signature[..signature.len() - 1]);
        let expected = if "AQgw".contains(stray) { Reason::ProofSignatureInvalid } else { Reason::ProofMalformed };
        assert_eq!(with(other), expected, "{stray}");
    }
}

#[test]
fn rfc7515_5_2_c_header_and_claims_are_strict_json_objects() {
    for bad in ["", "null", "[]", "7", "\"x\"", "{", "{}x", "{\"a\":NaN}", "{\"a\":1,}", "\u{feff}{}", "{'a':1}"] {
        assert_eq!(of_text(|header, _| *header = bad.into()), Reason::ProofMalformed, "{bad}");
        assert_eq!(of_text(|_, claims| *claims = bad.into()), Reason::ProofMalformed, "{bad}");
    }
    let deep = format!(",\"deep\":{}{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(of_text(|_, claims| claims.replace_range(claims.len() - 1.., &deep)), Reason::ProofMalformed);
    assert_eq!(of_text(|_, claims| claims.push_str(" \n")), Reason::Allowed);
    let invalid_utf8 = {
        let key = Key::new("ES256");
        let token = key.token();
        let claims = proof_claims(&token).to_string().replace("GET", "G\u{0}T");
        let bytes: Vec<u8> = claims.bytes().map(|c| if c == 0 { 0xff } else { c }).collect();
        let signed = format!("{}.{}", b64(key.header().to_string().as_bytes()), b64(&bytes));
        let signature = b64(&key.sign(signed.as_bytes()));
        decide(&proved(&token, format!("{signed}.{signature}")))
    };
    assert_eq!(invalid_utf8, Reason::ProofMalformed);
}

#[test]
fn rfc7515_4_a_duplicate_members_are_refused_wherever_they_are() {
    for name in ["jti", "htm", "htu", "iat", "ath", "extra"] {
        let twice = |claims: &mut String| {
            let value: Value = serde_json::from_str(claims).expect("JSON");
            let member = format!("{{\"{name}\":{},\"{name}\":{},", value[name], value[name]);
            let rest: String = {
                let mut value = value.clone();
                common::without(&mut value, name);
                value.to_string()
            };
            *claims = format!("{member}{}", &rest[1..]);
        };
        assert_eq!(of_text(|_, claims| twice(claims)), Reason::ProofMalformed, "{name}");
    }
    for member in [r#""alg":"ES256""#, r#""typ":"dpop+jwt""#, r#""jwk":{}"#] {
        assert_eq!(
            of_text(|header, _| header.insert_str(1, &format!("{member},"))),
            Reason::ProofMalformed,
            "{member}"
        );
    }
    let in_key = |header: &mut String| *header = header.replace(r#""kty":"EC""#, r#""kty":"EC","kty":"EC""#);
    assert_eq!(of_text(|header, _| in_key(header)), Reason::ProofMalformed);
    // `\u0074` is a `t`.
    assert_eq!(of_text(|_, claims| claims.insert_str(1, r#""h\u0074m":"GET","#)), Reason::ProofMalformed);
}

#[test]
fn a_proof_has_at_most_4096_bytes() {
    let key = Key::new("ES256");
    let token = key.token();
    let long = |pad: usize| key.proof_with(&token, |_, claims| claims["pad"] = "x".repeat(pad).into());
    // Three octets are four characters, so not every length can be had.
    let near = (4096 - long(0).len()) * 3 / 4;
    let proofs: Vec<String> = (near - 20..near + 20).map(long).collect();
    let lengths: Vec<usize> = proofs.iter().map(String::len).collect();
    assert!(
        lengths.iter().any(|len| (4094..=4096).contains(len)) && lengths.iter().any(|len| (4097..4100).contains(len))
    );
    for proof in proofs {
        let expected = if proof.len() <= 4096 { Reason::Allowed } else { Reason::ProofMalformed };
        assert_eq!(decide(&proved(&token, proof.clone())), expected, "{}", proof.len());
    }
}

// --- 3: the claims

#[test]
fn rfc9449_4_3_3_each_claim_is_there_and_of_its_type() {
    assert_eq!(changed(|_, _| {}), Reason::Allowed);
    let wrong = [json!(null), json!(true), json!([]), json!({}), json!([{}])];
    for name in ["jti", "htm", "htu", "ath"] {
        for value in wrong.iter().cloned().chain([json!(1), json!(""), json!(["GET"])]) {
            let shown = value.to_string();
            assert_eq!(changed(|_, c| c[name] = value), Reason::ProofMalformed, "{name} {shown}");
        }
        assert_eq!(changed(|_, c| common::without(c, name)), Reason::ProofMalformed, "{name}");
    }
    for value in wrong.iter().cloned().chain([json!(""), json!(NOW.to_string()), json!("now")]) {
        let shown = value.to_string();
        assert_eq!(changed(|_, c| c["iat"] = value), Reason::ProofMalformed, "iat {shown}");
    }
    assert_eq!(changed(|_, c| common::without(c, "iat")), Reason::ProofMalformed);
    for value in wrong.iter().cloned().chain([json!(1)]) {
        let shown = value.to_string();
        assert_eq!(changed(|_, c| c["nonce"] = value), Reason::ProofMalformed, "nonce {shown}");
    }
    // Claims that are not asked for change nothing, and their names are compared exactly.
    assert_eq!(changed(|_, c| c["nonce"] = "of another server".into()), Reason::Allowed);
    assert_eq!(changed(|_, c| c["exp"] = 1.into()), Reason::Allowed);
    assert_eq!(changed(|_, c| c["HTM"] = "POST".into()), Reason::Allowed);
}

#[test]
fn rfc9449_11_1_b_a_jti_has_at_most_256_bytes() {
    assert_eq!(changed(|_, c| c["jti"] = "j".repeat(256).into()), Reason::Allowed);
    assert_eq!(changed(|_, c| c["jti"] = "j".repeat(257).into()), Reason::ProofMalformed);
    assert_eq!(changed(|_, c| c["jti"] = "\u{e9}".repeat(128).into()), Reason::Allowed);
    assert_eq!(changed(|_, c| c["jti"] = "\u{e9}".repeat(129).into()), Reason::ProofMalformed);
    assert_eq!(changed(|_, c| c["jti"] = "j".repeat(1024 * 1024).into()), Reason::ProofMalformed);
}

// --- 4: typ

#[test]
fn rfc9449_4_3_4_typ_is_dpop_jwt_as_a_media_type() {
    for typ in ["dpop+jwt", "DPOP+JWT", "application/dpop+jwt", "Application/DPoP+jwt"] {
        assert_eq!(changed(|h, _| h["typ"] = typ.into()), Reason::Allowed, "{typ}");
    }
    for typ in ["", "JWT", "at+jwt", "dpop", "dpop+jwt ", " dpop+jwt", "dpop+jws", "text/dpop+jwt", "application/JWT"] {
        assert_eq!(changed(|h, _| h["typ"] = typ.into()), Reason::ProofTypeRefused, "{typ}");
    }
    for typ in [json!(null), json!(1), json!(["dpop+jwt"]), json!({}), json!(true)] {
        let shown = typ.to_string();
        assert_eq!(changed(|h, _| h["typ"] = typ), Reason::ProofTypeRefused, "{shown}");
    }
    assert_eq!(changed(|h, _| common::without(h, "typ")), Reason::ProofTypeRefused);
}

/// The kinds of JWT that a client may have at hand: their types, and claims.
fn kinds(token: &str) -> Vec<(&'static str, Value)> {
    let sub = "alice";
    let base = json!({"iss": ISSUER, "aud": "app", "sub": sub, "iat": NOW, "exp": NOW + 600, "jti": "k"});
    let with = |more: Value| {
        let mut claims = base.clone();
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    };
    vec![
        ("at+jwt", with(json!({"aud": common::AUDIENCE, "client_id": "app", "scope": "read"}))),
        ("JWT", with(json!({"nonce": "n", "at_hash": "x"}))),
        ("token-introspection+jwt", with(json!({"token_introspection": {"active": true}}))),
        ("logout+jwt", with(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}))),
        ("client-authentication+jwt", with(json!({"iss": "app", "aud": ISSUER}))),
        ("oauth-authz-req+jwt", with(json!({"client_id": "app", "response_type": "code"}))),
        ("dpop+jwt", proof_claims(token)),
    ]
}

#[test]
fn rfc9449_11_5_a_no_other_kind_of_jwt_is_a_proof_though_it_is_signed_by_the_key() {
    let key = Key::new("ES256");
    let token = key.token();
    for (typ, claims) in kinds(&token) {
        let mut header = key.header();
        header["typ"] = typ.into();
        let proof = key.jws(&header.to_string(), &claims.to_string());
        let expected = if typ == "dpop+jwt" { Reason::Allowed } else { Reason::ProofMalformed };
        assert_eq!(decide(&proved(&token, proof)), expected, "{typ}");
        // Even one that has all that a proof has.
        let mut all = claims;
        for (name, value) in proof_claims(&token).as_object().expect("an object") {
            all[name] = value.clone();
        }
        let proof = key.jws(&header.to_string(), &all.to_string());
        let expected = if typ == "dpop+jwt" { Reason::Allowed } else { Reason::ProofTypeRefused };
        assert_eq!(decide(&proved(&token, proof)), expected, "{typ}");
    }
    // As they are, signed by their issuer.
    assert_eq!(decide(&proved(&token, token.clone())), Reason::ProofMalformed);
}

#[test]
fn rfc8725_3_12_a_a_proof_is_no_access_token_even_if_the_issuer_made_it() {
    let key = Key::new("ES256");
    let claims = {
        let mut claims = common::claims();
        claims["cnf"] = json!({"jkt": key.jkt()});
        claims
    };
    let of_type = |typ: &str, jwk: bool| {
        let mut header = common::header("ES256");
        header["typ"] = typ.into();
        if jwk {
            header["jwk"] = key.jwk.clone();
        }
        let token = mint_raw("ES256", &header.to_string(), &claims.to_string());
        decide(&proved(&token, key.proof(&token)))
    };
    assert_eq!(of_type("at+jwt", false), Reason::Allowed);
    for typ in ["dpop+jwt", "application/dpop+jwt", "DPoP+JWT"] {
        assert_eq!(of_type(typ, true), Reason::TypeRefused, "{typ}");
        assert_eq!(of_type(typ, false), Reason::TypeRefused, "{typ}");
    }
    // Whoever signs it: a proof for itself.
    let proof = key.proof("x");
    for scheme in ["Bearer", "DPoP"] {
        let ask = Ask { proofs: vec![key.proof(&proof)], ..authorized(format!("{scheme} {proof}")) };
        assert_eq!(decide(&ask), Reason::TypeRefused, "{scheme}");
    }
}

#[test]
fn rfc7515_4_1_11_a_what_makes_a_header_critical_or_nested_refuses() {
    for (name, value) in [
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!("x")),
        ("crit", json!(null)),
        ("b64", json!(false)),
        ("b64", json!(null)),
        ("cty", json!("JWT")),
        ("cty", json!("")),
        ("cty", json!(null)),
    ] {
        let shown = value.to_string();
        assert_eq!(changed(|h, _| h[name] = value), Reason::ProofMalformed, "{name} {shown}");
    }
    assert_eq!(changed(|h, _| h["b64"] = true.into()), Reason::Allowed);
}

#[test]
fn rfc8725_3_10_a_members_that_point_to_other_keys_change_nothing() {
    let thief = Key::new("ES256");
    let jwk = thief.jwk.clone();
    let add = |h: &mut Value| {
        h["jku"] = "https://evil.test/keys".into();
        h["x5u"] = "https://evil.test/chain".into();
        h["x5c"] = json!(["AAAA"]);
        h["kid"] = "../../dev/null".into();
        h["jwks"] = json!({"keys": [jwk]});
        h["epk"] = jwk.clone();
    };
    assert_eq!(changed(|h, _| add(h)), Reason::Allowed);
    assert_eq!(changed(|h, _| h["JWK"] = jwk.clone()), Reason::Allowed);
}

// --- 5: alg

#[test]
fn rfc9449_4_3_5_alg_is_one_of_the_list_letter_by_letter() {
    for alg in [
        "none",
        "None",
        "NONE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "RSA-OAEP",
        "ECDH-ES",
        "dir",
        "es256",
        "ES256 ",
        " ES256",
        "ES256K",
        "ES257",
        "ES512x",
        "A256GCMKW",
    ] {
        assert_eq!(changed(|h, _| h["alg"] = alg.into()), Reason::ProofAlgorithmRefused, "{alg}");
    }
    for alg in [json!(null), json!(1), json!(["ES256"]), json!({})] {
        let shown = alg.to_string();
        assert_eq!(changed(|h, _| h["alg"] = alg), Reason::ProofMalformed, "{shown}");
    }
    assert_eq!(changed(|h, _| common::without(h, "alg")), Reason::ProofMalformed);
}

#[test]
fn rfc9449_11_6_a_an_unsecured_proof_never_passes() {
    let key = Key::new("ES256");
    let token = key.token();
    let mut header = key.header();
    header["alg"] = "none".into();
    let parts = [b64(header.to_string().as_bytes()), b64(proof_claims(&token).to_string().as_bytes())];
    assert_eq!(decide(&proved(&token, format!("{}.{}.", parts[0], parts[1]))), Reason::ProofAlgorithmRefused);
    // A MAC by the public key, which everybody knows.
    let mut header = key.header();
    header["alg"] = "HS256".into();
    let signed = format!("{}.{}", b64(header.to_string().as_bytes()), parts[1]);
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.jwk.to_string().as_bytes());
    let mac = b64(ring::hmac::sign(&secret, signed.as_bytes()).as_ref());
    assert_eq!(decide(&proved(&token, format!("{signed}.{mac}"))), Reason::ProofAlgorithmRefused);
}

/// Algorithms that clients of these tests can sign with.
const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

#[test]
fn only_the_algorithms_of_the_operator_are_accepted_and_they_are_in_the_challenge() {
    for alg in ALGORITHMS {
        let key = Key::new(alg);
        let token = key.token();
        let ask = || proved(&token, key.proof(&token));
        let is_default = ["ES256", "PS256", "EdDSA"].contains(&alg);
        let expected = if is_default { Reason::Allowed } else { Reason::ProofAlgorithmRefused };
        assert_eq!(decide(&ask()), expected, "{alg}");
        let only = engine(|c| c["dpop_algorithms"] = json!([alg]));
        assert_eq!(World::new().decide(&only, &ask()), Reason::Allowed, "{alg}");
        let seen = World::new().ask(&only, &bare());
        assert_eq!(seen.challenge, format!("DPoP algs=\"{alg}\""));
        let others: Vec<&str> = ALGORITHMS.into_iter().filter(|other| *other != alg).collect();
        let others = engine(|c| c["dpop_algorithms"] = json!(others));
        assert_eq!(World::new().decide(&others, &ask()), Reason::ProofAlgorithmRefused, "{alg}");
    }
    assert_eq!(World::new().ask(&engine(|_| {}), &bare()).challenge, "DPoP algs=\"ES256 PS256 EdDSA\"");
}

#[test]
fn ed25519_is_the_same_algorithm_as_eddsa() {
    let key = Key::new("EdDSA");
    let token = key.token();
    for (name, expected) in
        [("EdDSA", Reason::Allowed), ("Ed25519", Reason::Allowed), ("Ed448", Reason::ProofAlgorithmRefused)]
    {
        assert_eq!(decide(&proved(&token, key.proof_with(&token, |h, _| h["alg"] = name.into()))), expected, "{name}");
    }
}

// --- 6: the signature

#[test]
fn rfc9449_4_3_6_a_changed_bit_of_the_signature_or_of_what_is_signed_refuses() {
    for alg in ["ES256", "EdDSA", "PS256"] {
        let key = Key::new(alg);
        let token = key.token();
        let (header, claims) = (b64(key.header().to_string().as_bytes()), proof_claims(&token));
        let signed = format!("{header}.{}", b64(claims.to_string().as_bytes()));
        let signature = key.sign(signed.as_bytes());
        let with = |signature: &[u8]| decide(&proved(&token, format!("{signed}.{}", b64(signature))));
        assert_eq!(with(&signature), Reason::Allowed);
        let step = signature.len() / 16;
        for bit in (0..signature.len() * 8).filter(|bit| bit / 8 % step == 0) {
            let mut other = signature.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(with(&other), Reason::ProofSignatureInvalid, "{alg} bit {bit}");
        }
        for other in [
            signature[1..].to_vec(),
            signature[..signature.len() - 1].to_vec(),
            [&signature[..], &[0]].concat(),
            [&[0], &signature[..]].concat(),
            vec![0; signature.len()],
            vec![0xff; signature.len()],
            signature.repeat(2),
        ] {
            assert_eq!(with(&other), Reason::ProofSignatureInvalid, "{alg} {} octets", other.len());
        }
        // What is signed: another `jti`, by whoever would use a proof twice.
        let mut other = claims.clone();
        other["jti"] = "another".into();
        let proof = format!("{header}.{}.{}", b64(other.to_string().as_bytes()), b64(&signature));
        assert_eq!(decide(&proved(&token, proof)), Reason::ProofSignatureInvalid, "{alg}");
        // The same claims, and other bytes.
        let proof = format!("{header}.{}.{}", b64(format!("{claims} ").as_bytes()), b64(&signature));
        assert_eq!(decide(&proved(&token, proof)), Reason::ProofSignatureInvalid, "{alg}");
    }
}

#[test]
fn rfc9449_4_3_6_signatures_at_the_edges_of_ecdsa_and_eddsa_refuse() {
    /// Orders of the groups of P-256, big-endian, and of Ed25519, little-endian.
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let one = |at: usize| {
        let mut number = [0; 32];
        number[at] = 1;
        number
    };
    let signed_by = |alg: &'static str, make: &dyn Fn(&[u8]) -> Vec<u8>| {
        let key = Key::new(alg);
        let token = key.token();
        let signed = format!(
            "{}.{}",
            b64(key.header().to_string().as_bytes()),
            b64(proof_claims(&token).to_string().as_bytes())
        );
        let signature = make(&key.sign(signed.as_bytes()));
        decide(&proved(&token, format!("{signed}.{}", b64(&signature))))
    };
    assert_eq!(signed_by("ES256", &|s| s.to_vec()), Reason::Allowed);
    let zero = [0; 32];
    for (r, s) in
        [(zero, zero), (zero, one(31)), (one(31), zero), (one(31), one(31)), (N, N), (N, one(31)), (one(31), N)]
    {
        assert_eq!(signed_by("ES256", &|_| [r, s].concat()), Reason::ProofSignatureInvalid, "{r:?} {s:?}");
    }
    // The same two numbers in DER, as TLS has them.
    let der = |s: &[u8]| {
        let integer = |n: &[u8]| {
            let mut body = if n[0] >= 0x80 { vec![0] } else { Vec::new() };
            body.extend_from_slice(n);
            [vec![2, body.len() as u8], body].concat()
        };
        let body = [integer(&s[..32]), integer(&s[32..])].concat();
        [vec![0x30, body.len() as u8], body].concat()
    };
    assert_eq!(signed_by("ES256", &der), Reason::ProofSignatureInvalid);
    assert_eq!(signed_by("ES256", &|s| [&s[32..], &s[..32]].concat()), Reason::ProofSignatureInvalid);
    // s + L is the same number to a verifier that does not look (RFC 8032 §5.1.7).
    let plus_order = |signature: &[u8]| {
        let mut out = signature.to_vec();
        let mut carry = 0u16;
        for (own, add) in out[32..].iter_mut().zip(L) {
            let sum = u16::from(*own) + u16::from(add) + carry;
            *own = sum as u8;
            carry = sum >> 8;
        }
        out
    };
    assert_eq!(signed_by("EdDSA", &|s| s.to_vec()), Reason::Allowed);
    assert_eq!(signed_by("EdDSA", &plus_order), Reason::ProofSignatureInvalid);
}

#[test]
fn rfc7515_10_6_a_the_algorithm_of_the_signature_is_that_of_the_header() {
    let all = || engine(|c| c["dpop_algorithms"] = json!(ALGORITHMS));
    for own in ALGORITHMS {
        let key = Key::new(own);
        let token = key.token();
        for named in ALGORITHMS {
            let proof = key.proof_with(&token, |h, _| h["alg"] = named.into());
            let seen = World::new().decide(&all(), &proved(&token, proof));
            let is_family = |alg: &str| alg.starts_with("RS") || alg.starts_with("PS");
            let expected = match (own == named, is_family(own) && is_family(named)) {
                (true, _) => Reason::Allowed,
                (false, true) => Reason::ProofSignatureInvalid,
                (false, false) => Reason::ProofKeyRefused,
            };
            assert_eq!(seen, expected, "{own} as {named}");
        }
    }
}

// --- 7: the key

#[test]
fn rfc9449_4_3_7_any_private_member_refuses_whatever_its_value() {
    for alg in ["ES256", "EdDSA", "PS256"] {
        let key = Key::new(alg);
        let token = key.token();
        let with =
            |name: &str, value: Value| decide(&proved(&token, key.proof_with(&token, |h, _| h["jwk"][name] = value)));
        assert_eq!(with("ext", json!(true)), Reason::Allowed, "{alg}");
        for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            for value in [json!("AAAA"), json!(""), json!(null), json!(1), json!([])] {
                let shown = value.to_string();
                assert_eq!(with(name, value), Reason::ProofKeyRefused, "{alg} {name} {shown}");
            }
        }
    }
}

#[test]
fn rfc9449_4_3_7_the_key_is_a_whole_public_key_of_a_kind_that_signs() {
    let other = Key::new("ES256").jwk;
    for jwk in [
        json!(null),
        json!(1),
        json!("x"),
        json!([]),
        json!({}),
        json!([other]),
        json!({"kty": "oct"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "EC", "crv": "P-256"}),
        json!({"kty": "EC", "crv": "P-256", "x": other["x"]}),
        json!({"kty": "EC", "crv": "P-384", "x": other["x"], "y": other["y"]}),
        json!({"kty": "EC", "crv": "secp256k1", "x": other["x"], "y": other["y"]}),
        json!({"kty": "EC", "crv": "P-256K", "x": other["x"], "y": other["y"]}),
        json!({"kty": "ec", "crv": "P-256", "x": other["x"], "y": other["y"]}),
        json!({"kty": "OKP", "crv": "P-256", "x": other["x"], "y": other["y"]}),
        json!({"kty": "OKP", "crv": "X25519", "x": other["x"]}),
        json!({"kty": "EC", "crv": "P-256", "x": format!("{}=", other["x"].as_str().expect("x")), "y": other["y"]}),
        json!({"kty": "EC", "crv": "P-256", "x": format!("AA{}", other["x"].as_str().expect("x")), "y": other["y"]}),
        json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}),
    ] {
        let shown = jwk.to_string();
        assert_eq!(changed(|h, _| h["jwk"] = jwk), Reason::ProofKeyRefused, "{shown}");
    }
    assert_eq!(changed(|h, _| common::without(h, "jwk")), Reason::ProofKeyRefused);
}

#[test]
fn rfc7518_6_2_1_a_a_point_that_is_not_on_the_curve_verifies_nothing() {
    let key = Key::new("ES256");
    let off = {
        let mut jwk = key.jwk.clone();
        jwk["y"] = jwk["x"].clone();
        jwk
    };
    // A token bound to that very point, so that nothing but the point is wrong. `ring` looks when it verifies.
    let token = key.token_with(|claims| claims["cnf"] = json!({"jkt": x5t(off.to_string().as_bytes())}));
    let seen = decide(&proved(&token, key.proof_with(&token, |h, _| h["jwk"] = off)));
    assert!(matches!(seen, Reason::ProofSignatureInvalid | Reason::ProofKeyRefused), "{seen:?}");
}

#[test]
fn rfc7518_3_3_a_a_short_rsa_key_is_refused() {
    let weak: Value = serde_json::from_slice(include_bytes!("../common/keys/rsa1024.jwk")).expect("a JWK");
    assert_eq!(
        changed(|h, _| {
            h["alg"] = "PS256".into();
            h["jwk"] = weak;
        }),
        Reason::ProofKeyRefused
    );
}

#[test]
fn rfc7517_4_4_a_an_algorithm_of_the_key_is_that_of_the_proof() {
    for (alg, expected) in [
        (json!("ES256"), Reason::Allowed),
        (json!("ES384"), Reason::ProofKeyRefused),
        (json!("PS256"), Reason::ProofKeyRefused),
        (json!("ECDH-ES"), Reason::ProofKeyRefused),
        (json!("none"), Reason::ProofKeyRefused),
        (json!(""), Reason::ProofKeyRefused),
        (json!(null), Reason::ProofKeyRefused),
        (json!(["ES256"]), Reason::ProofKeyRefused),
    ] {
        let shown = alg.to_string();
        assert_eq!(changed(|h, _| h["jwk"]["alg"] = alg), expected, "{shown}");
    }
}

/// Clients export a private key and take `d` away.
#[test]
fn what_else_a_key_says_of_itself_is_not_looked_at() {
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!(1)),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!("sign")),
        ("ext", json!(true)),
        ("kid", json!(7)),
        ("x5c", json!(["AAAA"])),
        ("x5u", json!("https://evil.test/")),
    ] {
        let shown = value.to_string();
        assert_eq!(changed(|h, _| h["jwk"][name] = value), Reason::Allowed, "{name} {shown}");
    }
}

// --- 8: the method

#[test]
fn rfc9449_4_3_8_htm_is_the_method_letter_by_letter() {
    for (sent, htm, passes) in [
        ("GET", "GET", true),
        ("GET", "get", false),
        ("GET", "Get", false),
        ("get", "get", true),
        ("get", "GET", false),
        ("GET", "GET ", false),
        ("GET", " GET", false),
        ("GET", "GETT", false),
        ("GET", "GE", false),
        ("GET", "POST", false),
        ("POST", "POST", true),
        ("HEAD", "HEAD", true),
        ("HEAD", "GET", false),
        ("PROPFIND", "PROPFIND", true),
        ("PROPFIND", "propfind", false),
        ("", "GET", false),
    ] {
        let key = Key::new("ES256");
        let token = key.token();
        let proof = key.proof_with(&token, |_, c| c["htm"] = htm.into());
        let expected = if passes { Reason::Allowed } else { Reason::ProofMethodMismatch };
        assert_eq!(decide(&Ask { method: sent, ..proved(&token, proof) }), expected, "{sent} {htm}");
    }
}

// --- 11: the window

#[test]
fn rfc9449_4_3_11_a_proof_is_accepted_within_its_window_to_the_second() {
    let window = |lifetime: i64, leeway: i64| {
        engine(|c| {
            c["dpop_proof_lifetime"] = lifetime.into();
            c["dpop_proof_leeway"] = leeway.into();
        })
    };
    for (engine, lifetime, leeway) in [(engine(|_| {}), 60, 5), (window(1, 0), 1, 0), (window(3600, 60), 3600, 60)] {
        for (iat, expected) in [
            (NOW - lifetime, Reason::Allowed),
            (NOW - lifetime - 1, Reason::ProofExpired),
            (NOW - lifetime + 1, Reason::Allowed),
            (NOW, Reason::Allowed),
            (NOW + leeway, Reason::Allowed),
            (NOW + leeway + 1, Reason::ProofIssuedInFuture),
        ] {
            let key = Key::new("ES256");
            let token = key.token();
            let proof = key.proof_with(&token, |_, c| c["iat"] = iat.into());
            let seen = World::new().decide(&engine, &proved(&token, proof));
            assert_eq!(seen, expected, "{lifetime} {leeway} {}", iat - NOW);
        }
    }
}

#[test]
fn rfc9449_4_3_11_numbers_at_the_edges_are_no_proofs_of_now() {
    for (iat, expected) in [
        (format!("{NOW}.0"), Reason::Allowed),
        (format!("{}.5", NOW + 5), Reason::Allowed),
        (format!("{}.0", NOW + 6), Reason::ProofIssuedInFuture),
        (format!("{}.5", NOW - 61), Reason::ProofExpired),
        (format!("{}.0", NOW - 60), Reason::Allowed),
        ("0".into(), Reason::ProofExpired),
        ("-1".into(), Reason::ProofExpired),
        (format!("-{NOW}"), Reason::ProofExpired),
        (i64::MIN.to_string(), Reason::ProofExpired),
        (i64::MAX.to_string(), Reason::ProofIssuedInFuture),
        ("9007199254740993".into(), Reason::ProofIssuedInFuture),
        ("9223372036854775808".into(), Reason::ProofMalformed),
        ("-9223372036854775809".into(), Reason::ProofMalformed),
        ("1e300".into(), Reason::ProofMalformed),
        ("-1e300".into(), Reason::ProofMalformed),
        (format!("{NOW}000"), Reason::ProofIssuedInFuture),
    ] {
        let seen = of_text(|_, claims| *claims = claims.replace(&format!("\"iat\":{NOW}"), &format!("\"iat\":{iat}")));
        assert_eq!(seen, expected, "{iat}");
    }
}

#[test]
fn rfc9449_11_1_a_a_proof_ends_whatever_the_client_says() {
    let key = Key::new("ES256");
    let token = key.token();
    let proof = key.proof_with(&token, |_, c| c["exp"] = (NOW + 100_000).into());
    for (later, expected) in [(0, Reason::Allowed), (60, Reason::Allowed), (61, Reason::ProofExpired)] {
        let ask = Ask { now: NOW + later, ..proved(&token, proof.clone()) };
        assert_eq!(decide(&ask), expected, "{later}");
    }
    // It is told how far the clocks are apart.
    let seen = World::new().ask(&engine(|_| {}), &Ask { now: NOW + 61, ..proved(&token, proof) });
    assert_eq!(seen.detail, "it is 61 seconds old");
    let proof = key.proof_with(&token, |_, c| c["iat"] = (NOW + 6).into());
    assert_eq!(World::new().ask(&engine(|_| {}), &proved(&token, proof)).detail, "it is 6 seconds ahead");
}

// --- 12: the token, and its key

#[test]
fn rfc9449_4_3_12a_ath_is_the_hash_of_the_token() {
    let key = Key::new("ES256");
    let (token, other) = (key.token(), key.token_with(|c| c["jti"] = "2".into()));
    let with = |ath: &str| decide(&proved(&token, key.proof_with(&token, |_, c| c["ath"] = ath.into())));
    let ath = x5t(token.as_bytes());
    assert_eq!(with(&ath), Reason::Allowed);
    assert_eq!(with(&x5t(other.as_bytes())), Reason::ProofTokenMismatch);
    assert_eq!(with(&x5t(format!("DPoP {token}").as_bytes())), Reason::ProofTokenMismatch);
    assert_eq!(with(&x5t(b"")), Reason::ProofTokenMismatch);
    for bad in [
        format!("{ath}="),
        ath[..42].to_owned(),
        format!("{ath}A"),
        token.clone(),
        " ".into(),
        ath.replace(&ath[..1], "+"),
    ] {
        assert_eq!(with(&bad), Reason::ProofMalformed, "{bad}");
    }
}

#[test]
fn rfc9449_4_3_12b_the_key_of_the_proof_is_the_one_that_the_token_is_bound_to() {
    let (own, thief) = (Key::new("ES256"), Key::new("ES256"));
    let token = own.token();
    assert_eq!(decide(&proved(&token, own.proof(&token))), Reason::Allowed);
    assert_eq!(decide(&proved(&token, thief.proof(&token))), Reason::ProofKeyMismatch);
    // The right key shown, and the wrong one used.
    let forged = thief.proof_with(&token, |h, _| h["jwk"] = own.jwk.clone());
    assert_eq!(decide(&proved(&token, forged)), Reason::ProofSignatureInvalid);
    // Of each kind, and none for another.
    let keys = ["ES256", "ES384", "EdDSA", "PS256"].map(Key::new);
    let engine = engine(|c| c["dpop_algorithms"] = json!(ALGORITHMS));
    for own in &keys {
        let token = own.token();
        for other in &keys {
            let expected = if own.alg == other.alg { Reason::Allowed } else { Reason::ProofKeyMismatch };
            let seen = World::new().decide(&engine, &proved(&token, other.proof(&token)));
            assert_eq!(seen, expected, "{} for {}", other.alg, own.alg);
        }
    }
}

#[test]
fn rfc7638_3_a_a_key_has_one_thumbprint_however_it_is_written() {
    let key = Key::new("ES256");
    let token = key.token();
    let jwk = format!(
        r#"{{ "y" : {}, "use":"sig","x": {} , "kty":"EC","crv":"P-\u0032\u00356","z":[1] }}"#,
        key.jwk["y"], key.jwk["x"]
    );
    let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{jwk}}}"#);
    let proof = key.jws(&header, &proof_claims(&token).to_string());
    assert_eq!(decide(&proved(&token, proof)), Reason::Allowed);
}

#[test]
fn rfc9449_6_1_a_jkt_is_43_characters_of_canonical_base64url() {
    let key = Key::new("ES256");
    let jkt = key.jkt();
    let with = |value: Value| {
        let token = key.token_with(|claims| claims["cnf"] = json!({"jkt": value}));
        decide(&proved(&token, key.proof(&token)))
    };
    assert_eq!(with(jkt.clone().into()), Reason::Allowed);
    assert_eq!(with(x5t(CLIENT_A).into()), Reason::ProofKeyMismatch);
    for bad in [format!("{jkt}="), jkt[..42].to_owned(), format!("{jkt}A"), String::new(), format!("+{}", &jkt[1..])] {
        assert_eq!(with(bad.clone().into()), Reason::ConfirmationMalformed, "{bad}");
    }
    for bad in [json!(null), json!(1), json!([jkt]), json!({}), key.jwk.clone()] {
        let shown = bad.to_string();
        assert_eq!(with(bad), Reason::ConfirmationMalformed, "{shown}");
    }
    for cnf in
        [json!({"jwk": key.jwk}), json!({"JKT": jkt}), json!({"jkt": jkt, "jwk": key.jwk}), json!({"jkt": jkt, "x": 1})]
    {
        let token = key.token_with(|claims| claims["cnf"] = cnf.clone());
        assert_eq!(decide(&proved(&token, key.proof(&token))), Reason::ConfirmationUnsupported, "{cnf}");
    }
}

// --- All of them

/// Each check of a proof, and one of the token, broken alone.
#[test]
fn rfc9449_7_1_a_nothing_passes_unless_every_check_does() {
    type Break = fn(&mut Ask, &Key, &str);
    let breaks: [(Break, Reason); 14] = [
        (|a, _, _| a.proofs.clear(), Reason::ProofMissing),
        (|a, k, t| a.proofs.push(k.proof(t)), Reason::ProofRepeated),
        (|a, _, _| a.proofs[0].push('='), Reason::ProofMalformed),
        (|a, k, t| a.proofs[0] = k.proof_with(t, |_, c| common::without(c, "jti")), Reason::ProofMalformed),
        (|a, k, t| a.proofs[0] = k.proof_with(t, |h, _| h["typ"] = "JWT".into()), Reason::ProofTypeRefused),
        (|a, k, t| a.proofs[0] = k.proof_with(t, |h, _| h["alg"] = "none".into()), Reason::ProofAlgorithmRefused),
        (|a, k, t| a.proofs[0] = k.proof_with(t, |h, _| h["jwk"]["d"] = "AA".into()), Reason::ProofKeyRefused),
        (|a, _, _| a.method = "POST", Reason::ProofMethodMismatch),
        (|a, _, _| a.target = "/other".into(), Reason::ProofUriMismatch),
        (|a, k, t| a.proofs[0] = k.proof_with(t, |_, c| c["iat"] = 1.into()), Reason::ProofExpired),
        (|a, k, _| a.proofs[0] = k.proof("another"), Reason::ProofTokenMismatch),
        (|a, _, t| a.proofs[0] = Key::new("ES256").proof(t), Reason::ProofKeyMismatch),
        (
            |a, _, _| {
                let at = a.proofs[0].len() - 20;
                let old = a.proofs[0].remove(at);
                a.proofs[0].insert(at, if old == 'A' { 'B' } else { 'A' })
            },
            Reason::ProofSignatureInvalid,
        ),
        (|a, _, _| a.now = NOW + 600, Reason::TokenExpired),
    ];
    // By a token that is read for the first time, one that is remembered, and one that is asked about.
    for cached in [false, true] {
        for opaque in [false, true] {
            for (change, expected) in breaks {
                let key = Key::new("ES256");
                let (engine, mut world, token) = if opaque {
                    let said = json!({"exp": NOW + 600, "cnf": {"jkt": key.jkt()}, "token_type": "DPoP"});
                    (introspecting(|_| {}), World::saying(said), OPAQUE.to_owned())
                } else {
                    (engine(|_| {}), World::new(), key.token())
                };
                if cached {
                    assert_eq!(world.decide(&engine, &proved(&token, key.proof(&token))), Reason::Allowed);
                }
                let mut ask = proved(&token, key.proof(&token));
                change(&mut ask, &key, &token);
                // Proofs are read before an introspection, and the clock of this one is too late for both.
                let is_late = expected == Reason::TokenExpired && opaque;
                let expected = if is_late { Reason::ProofExpired } else { expected };
                let seen = world.ask(&engine, &ask);
                assert_eq!(seen.reason, expected, "cached {cached}, opaque {opaque}");
                assert_eq!(seen.status, 401);
                assert_eq!(seen.spent().count(), 0, "{expected:?} reached the store");
            }
        }
    }
}
