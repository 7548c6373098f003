//! ID tokens (OpenID Connect Core 1.0 §2, §3.1.3.7, §12.2): who logged in, said by our issuer to this client.

use crate::binding::Confirmation;
use crate::crypto::{self, Algorithm};
use crate::jose::jwk::JwkSet;
use crate::jose::jws::{Compact, Header, Type};
use crate::jose::{b64, claims, json};
use crate::reason::Reason;
use crate::token::Facts;

/// Largest ID token, in bytes: it comes in a body, and lists of groups make it larger than what fits into a header.
pub(crate) const MAX_ID_TOKEN: usize = 16 * 1024;
/// Longest `sub`, in bytes (§2).
const MAX_SUBJECT: usize = 255;
/// Oldest `iat`, in seconds: it was made for the exchange that just took place, whatever the clocks say.
const MAX_AGE: i64 = 24 * 60 * 60;

/// What an ID token must say.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// That of the login; `None` where nobody sent one: refresh, password.
    pub(crate) nonce: Option<&'a str>,
    /// That of the same response.
    pub(crate) access_token: &'a str,
    /// That of the session (§12.2).
    pub(crate) subject: Option<&'a str>,
    /// Who else may be in `aud`.
    pub(crate) trusted_audiences: &'a [String],
    pub(crate) algorithms: &'a [Algorithm],
    /// For `exp` and `nbf`, in seconds.
    pub(crate) leeway: i64,
}

/// A verified ID token.
pub(crate) struct IdToken {
    pub(crate) subject: String,
}

/// Why an ID token is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// By its signature: `KeyUnknown`, `SignatureInvalid`. The keys may be old.
    Key(Reason),
    /// The rule that it breaks, for the log.
    Rule(&'static str),
}

/// As a rule of every JWT.
fn rule(reason: Reason) -> Invalid {
    Invalid::Rule(reason.code())
}

impl From<Reason> for Invalid {
    fn from(reason: Reason) -> Invalid {
        Invalid::Key(reason)
    }
}

/// Checks an ID token, the signature last: it costs most.
pub(crate) fn verify(token: &[u8], expected: &Expected<'_>, keys: &JwkSet, now: i64) -> Result<IdToken, Invalid> {
    if token.len() > MAX_ID_TOKEN {
        return Err(Invalid::Rule("it is larger than 16 KiB"));
    }
    let parts = Compact::parts(token).map_err(rule)?;
    let header = Header::parse(parts.header).map_err(rule)?;
    if !expected.algorithms.contains(&header.algorithm) {
        return Err(rule(Reason::AlgorithmRefused));
    }
    // Other kinds of token have a type of their own (RFC 8725 §3.11).
    if !matches!(header.typ, Type::Absent | Type::Jwt) {
        return Err(rule(Reason::TypeRefused));
    }
    let claims = b64::decode(parts.payload).ok_or(rule(Reason::TokenNotJwt))?;
    let subject = check(&claims, expected, header.algorithm, now)?;
    keys.verify(&parts, &header).map_err(|reason| match reason {
        Reason::KeyUnknown | Reason::SignatureInvalid => Invalid::Key(reason),
        _ => rule(reason),
    })?;
    Ok(IdToken { subject })
}

/// Checks the claims, and gives out the subject.
fn check(payload: &[u8], expected: &Expected<'_>, algorithm: Algorithm, now: i64) -> Result<String, Invalid> {
    let claims = json::parse_object(payload).map_err(|_| rule(Reason::ClaimsMalformed))?;
    let text = |name: &str| claims::text(&claims, name).map_err(rule);
    let date = |name: &str| claims::date(&claims, name).map_err(rule);
    if text("iss")? != Some(expected.issuer) {
        return Err(Invalid::Rule("iss is not the issuer"));
    }
    let audiences = claims::strings(claims.get("aud").ok_or(Invalid::Rule("there is no aud"))?).map_err(rule)?;
    if !audiences.clone().any(|audience| audience == expected.client_id) {
        return Err(Invalid::Rule("aud does not hold the client"));
    }
    let is_trusted =
        |audience: &str| audience == expected.client_id || expected.trusted_audiences.iter().any(|own| own == audience);
    if !audiences.clone().all(is_trusted) {
        return Err(Invalid::Rule("aud holds somebody who is not trusted"));
    }
    match text("azp")? {
        Some(azp) if azp != expected.client_id => return Err(Invalid::Rule("azp is not the client")),
        None if audiences.count() > 1 => return Err(Invalid::Rule("there are several aud and no azp")),
        _ => {}
    }
    let expires = date("exp")?.ok_or(Invalid::Rule("there is no exp"))?;
    let issued = date("iat")?.ok_or(Invalid::Rule("there is no iat"))?;
    let not_before = date("nbf")?;
    Facts { expires, not_before, issued: Some(issued), confirmation: Confirmation::Unbound }
        .check_time(now, expected.leeway)
        .map_err(rule)?;
    if now.saturating_sub(issued) > MAX_AGE {
        return Err(Invalid::Rule("iat is more than 24 hours ago"));
    }
    // OpenID Connect Back-Channel Logout 1.0 §2.4: that is how a logout token is told from an ID token.
    if claims.get("events").is_some() {
        return Err(Invalid::Rule("events is there: it is a logout token"));
    }
    let nonce = text("nonce")?;
    if let Some(own) = expected.nonce {
        let nonce = nonce.ok_or(Invalid::Rule("there is no nonce"))?;
        if !crypto::equal(&crypto::sha256(nonce.as_bytes()), &crypto::sha256(own.as_bytes())) {
            return Err(Invalid::Rule("nonce is not that of the login"));
        }
    }
    if text("at_hash")?.is_some_and(|hash| hash != at_hash(algorithm, expected.access_token)) {
        return Err(Invalid::Rule("at_hash is not that of the access token"));
    }
    let subject = text("sub")?.ok_or(Invalid::Rule("there is no sub"))?;
    if !(1..=MAX_SUBJECT).contains(&subject.len()) {
        return Err(Invalid::Rule("sub is empty or longer than 255 bytes"));
    }
    if expected.subject.is_some_and(|own| own != subject) {
        return Err(Invalid::Rule("sub is not that of the session"));
    }
    Ok(subject.to_owned())
}

/// The left half of the token's hash (§3.1.3.6), by the hash of the algorithm; that of Ed25519 is SHA-512 (RFC 8032 §5.1).
fn at_hash(algorithm: Algorithm, access_token: &str) -> String {
    let token = access_token.as_bytes();
    let left = |hash: &[u8]| b64::encode(hash.get(..hash.len() / 2).unwrap_or_default());
    match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 => left(&crypto::sha256(token)),
        Algorithm::Rs384 | Algorithm::Ps384 | Algorithm::Es384 => left(&crypto::sha384(token)),
        Algorithm::Rs512 | Algorithm::Ps512 | Algorithm::EdDsa => left(&crypto::sha512(token)),
        #[cfg(feature = "aws-lc")]
        Algorithm::Es512 => left(&crypto::sha512(token)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::sign::SigningKey;

    const NOW: i64 = 1_800_000_000;
    /// OpenID Connect Core 1.0 §A.3
    const ACCESS_TOKEN: &str = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
    const AT_HASH: &str = "77QmUPtjPfzWtF2AnpK9RQ";

    const RSA: &str = include_str!("../../tests/common/keys/rsa.jwk");
    const P256: &str = include_str!("../../tests/common/keys/p256.jwk");
    const P384: &str = include_str!("../../tests/common/keys/p384.jwk");
    #[cfg(feature = "aws-lc")]
    const P521: &str = include_str!("../../tests/common/keys/p521.jwk");
    const ED25519: &str = include_str!("../../tests/common/keys/ed25519.jwk");

    fn private(algorithm: Algorithm) -> &'static str {
        match algorithm {
            Algorithm::Es256 => P256,
            Algorithm::Es384 => P384,
            #[cfg(feature = "aws-lc")]
            Algorithm::Es512 => P521,
            Algorithm::EdDsa => ED25519,
            _ => RSA,
        }
    }

    fn public(algorithm: Algorithm) -> Value {
        let mut key: Value = serde_json::from_str(private(algorithm)).expect("JSON");
        for name in ["d", "p", "q", "dp", "dq", "qi"] {
            key.as_object_mut().expect("object").remove(name);
        }
        key["kid"] = algorithm.name().into();
        key
    }

    fn keys_of(algorithms: &[Algorithm]) -> JwkSet {
        let set = json!({"keys": algorithms.iter().map(|a| public(*a)).collect::<Vec<_>>()});
        JwkSet::parse(set.to_string().as_bytes()).expect("set").0
    }

    fn join(header: &Value, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let signed = format!("{}.{}", b64::encode(header.to_string().as_bytes()), b64::encode(claims.as_bytes()));
        format!("{signed}.{}", b64::encode(&sign(signed.as_bytes()))).into_bytes()
    }

    /// A token with this header, signed by the test key of `algorithm`.
    fn token(algorithm: Algorithm, header: &Value, claims: &str) -> Vec<u8> {
        let key = SigningKey::from_jwk(&json::parse_object(private(algorithm).as_bytes()).expect("JSON")).expect("key");
        join(header, claims, |signed| key.sign(algorithm, signed).expect("signature"))
    }

    fn good() -> Value {
        json!({"iss": "https://as.test", "aud": "app", "sub": "bob", "exp": NOW + 300, "iat": NOW, "nonce": "n-1"})
    }

    /// The good claims with some others.
    fn with(changes: Value) -> Value {
        let mut claims = good();
        for (name, value) in changes.as_object().expect("object") {
            claims[name] = value.clone();
        }
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().expect("object").remove(name).expect("was there");
        claims
    }

    fn expected() -> Expected<'static> {
        Expected {
            issuer: "https://as.test",
            client_id: "app",
            nonce: Some("n-1"),
            access_token: ACCESS_TOKEN,
            subject: None,
            trusted_audiences: &[],
            algorithms: Algorithm::ALL,
            leeway: 0,
        }
    }

    /// What is said of claims signed by ES256; the empty text is yes.
    fn judge(claims: &Value, expected: &Expected<'_>) -> &'static str {
        judge_at(claims, expected, NOW)
    }

    fn judge_at(claims: &Value, expected: &Expected<'_>, now: i64) -> &'static str {
        let token = token(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ES256"}), &claims.to_string());
        said(verify(&token, expected, &keys_of(&[Algorithm::Es256]), now))
    }

    fn said(result: Result<IdToken, Invalid>) -> &'static str {
        match result {
            Ok(_) => "",
            Err(Invalid::Rule(why)) => why,
            Err(Invalid::Key(reason)) => reason.code(),
        }
    }

    #[test]
    fn oidc_3_1_3_7_a_good_token_gives_its_subject_by_each_algorithm() {
        for &algorithm in Algorithm::ALL {
            for typ in [None, Some("JWT"), Some("jwt"), Some("application/jwt")] {
                let mut header = json!({"alg": algorithm.name(), "kid": algorithm.name()});
                if let Some(typ) = typ {
                    header["typ"] = typ.into();
                }
                let claims = good().to_string();
                let token = token(algorithm, &header, &claims);
                let id = verify(&token, &expected(), &keys_of(Algorithm::ALL), NOW).expect("valid");
                assert_eq!(id.subject, "bob");
            }
        }
    }

    #[test]
    fn oidc_3_1_3_7_b_nothing_but_a_signature_of_an_allowed_algorithm_by_a_key_of_the_issuer() {
        let claims = good().to_string();
        let keys = keys_of(&[Algorithm::Es256, Algorithm::Rs256]);
        let es256 = json!({"alg": "ES256", "kid": "ES256"});
        let verify = |token: &[u8], expected: &Expected<'_>| verify(token, expected, &keys, NOW).err();
        let refused = Some(rule(Reason::AlgorithmRefused));
        let good = token(Algorithm::Es256, &es256, &claims);
        assert_eq!(verify(&good, &expected()), None);
        // no signature, and the public key as secret of an HMAC
        for name in ["none", "None", "HS256", "HS384", "HS512"] {
            let header = json!({"alg": name, "kid": "ES256"});
            assert_eq!(verify(&join(&header, &claims, |_| Vec::new()), &expected()), refused, "{name}");
            let secret = public(Algorithm::Es256).to_string();
            let hmac = |signed: &[u8]| crypto::hmac_sha256(secret.as_bytes(), signed).to_vec();
            assert_eq!(verify(&join(&header, &claims, hmac), &expected()), refused, "{name}");
        }
        // not on the list
        let only = Expected { algorithms: &[Algorithm::Ps256, Algorithm::Rs256], ..expected() };
        assert_eq!(verify(&good, &only), refused);
        // a header that names another algorithm, another key, or none that is known
        let by = |header: Value| verify(&token(Algorithm::Es256, &header, &claims), &expected());
        assert_eq!(by(json!({"alg": "RS256", "kid": "ES256"})), Some(Invalid::Key(Reason::KeyUnknown)));
        assert_eq!(by(json!({"alg": "RS256", "kid": "RS256"})), Some(Invalid::Key(Reason::SignatureInvalid)));
        assert_eq!(by(json!({"alg": "ES256", "kid": "RS256"})), Some(Invalid::Key(Reason::KeyUnknown)));
        assert_eq!(by(json!({"alg": "ES256", "kid": "new"})), Some(Invalid::Key(Reason::KeyUnknown)));
        assert_eq!(by(json!({"alg": "ES256"})), None);
        // a key that the token brings along
        let own = json!({"alg": "ES384", "kid": "ES256", "jwk": public(Algorithm::Es384)});
        let brought = token(Algorithm::Es384, &own, &claims);
        assert_eq!(verify(&brought, &expected()), Some(Invalid::Key(Reason::KeyUnknown)));
        // changed behind the signature
        let text = String::from_utf8(good.clone()).expect("ASCII");
        let parts: Vec<&str> = text.split('.').collect();
        let other = b64::encode(with(json!({"sub": "eve"})).to_string().as_bytes());
        let swapped = format!("{}.{other}.{}", parts[0], parts[2]);
        assert_eq!(verify(swapped.as_bytes(), &expected()), Some(Invalid::Key(Reason::SignatureInvalid)));
        let unsigned = format!("{}.{}.", parts[0], parts[1]);
        assert_eq!(verify(unsigned.as_bytes(), &expected()), Some(Invalid::Key(Reason::SignatureInvalid)));
        let padded = format!("{text}=");
        assert_eq!(verify(padded.as_bytes(), &expected()), Some(rule(Reason::TokenNotJwt)));
    }

    #[test]
    fn what_is_no_compact_jws_of_at_most_16_kib_is_refused() {
        let verify = |token: &[u8]| said(verify(token, &expected(), &keys_of(&[Algorithm::Es256]), NOW));
        for (token, why) in [
            ("", "token_not_jwt"),
            ("a.b", "token_not_jwt"),
            ("a.b.c.d.e", "token_encrypted"),
            ("{}", "token_not_jwt"),
            ("a.b.c", "token_not_jwt"),
        ] {
            assert_eq!(verify(token.as_bytes()), why, "{token}");
        }
        let sized = |padding: usize| {
            let claims = with(json!({"groups": "x".repeat(padding)})).to_string();
            token(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ES256"}), &claims)
        };
        let base = sized(0).len();
        let most = (MAX_ID_TOKEN - base) / 4 * 3;
        assert!((MAX_ID_TOKEN - 8..=MAX_ID_TOKEN).contains(&sized(most).len()));
        assert_eq!(verify(&sized(most)), "");
        assert_eq!(verify(&sized(most + 9)), "it is larger than 16 KiB");
        for (header, why) in [
            (json!({"alg": "ES256", "crit": ["exp"]}), "header_critical"),
            (json!({"alg": "ES256", "cty": "JWT"}), "token_nested"),
            (json!({"alg": ["ES256"]}), "header_malformed"),
        ] {
            assert_eq!(verify(&token(Algorithm::Es256, &header, &good().to_string())), why);
        }
    }

    #[test]
    fn no_other_kind_of_token_is_an_id_token() {
        let client =
            json!({"iss": "app", "sub": "app", "aud": "https://as.test", "jti": "j", "iat": NOW, "exp": NOW + 60});
        let access = with(json!({"client_id": "app", "jti": "j", "scope": "openid"}));
        let introspection =
            json!({"iss": "https://as.test", "aud": "app", "iat": NOW, "token_introspection": {"active": true}});
        let logout = with(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}));
        for (kind, typ, claims, why) in [
            ("an access token", Some("at+jwt"), &access, "type_refused"),
            ("an access token", Some("application/at+jwt"), &access, "type_refused"),
            ("introspection", Some("token-introspection+jwt"), &introspection, "type_refused"),
            ("introspection", None, &introspection, "there is no exp"),
            ("a logout token", Some("logout+jwt"), &logout, "type_refused"),
            ("a logout token", Some("JWT"), &logout, "events is there: it is a logout token"),
            ("a logout token", None, &logout, "events is there: it is a logout token"),
            ("a DPoP proof", Some("dpop+jwt"), &good(), "type_refused"),
            ("a client assertion", Some("JWT"), &client, "iss is not the issuer"),
            ("userinfo", None, &json!({"iss": "https://as.test", "aud": "app", "sub": "bob"}), "there is no exp"),
            ("an ID token", Some("JWT"), &good(), ""),
        ] {
            let mut header = json!({"alg": "ES256", "kid": "ES256"});
            if let Some(typ) = typ {
                header["typ"] = typ.into();
            }
            let token = token(Algorithm::Es256, &header, &claims.to_string());
            assert_eq!(said(verify(&token, &expected(), &keys_of(&[Algorithm::Es256]), NOW)), why, "{kind} {typ:?}");
        }
    }

    #[test]
    fn oidc_3_1_3_7_c_the_issuer_is_compared_exactly() {
        for iss in ["https://as.test/", "https://AS.test", "https://as.test.evil.test", "http://as.test", ""] {
            assert_eq!(judge(&with(json!({"iss": iss})), &expected()), "iss is not the issuer", "{iss}");
        }
        assert_eq!(judge(&without("iss"), &expected()), "iss is not the issuer");
        for iss in [json!(null), json!(1), json!(["https://as.test"])] {
            assert_eq!(judge(&with(json!({"iss": iss})), &expected()), "claims_malformed");
        }
    }

    #[test]
    fn oidc_3_1_3_7_d_the_audience_is_this_client_and_nobody_who_is_not_trusted() {
        const NOT_US: &str = "aud does not hold the client";
        const UNTRUSTED: &str = "aud holds somebody who is not trusted";
        const NO_AZP: &str = "there are several aud and no azp";
        const AZP: &str = "azp is not the client";
        let trusted = ["api".to_owned(), "crm".to_owned()];
        for (aud, azp, why) in [
            (json!("app"), None, ""),
            (json!(["app"]), None, ""),
            (json!("app"), Some(json!("app")), ""),
            (json!(["app"]), Some(json!("app")), ""),
            (json!(["api", "app"]), Some(json!("app")), ""),
            (json!(["app", "api", "crm"]), Some(json!("app")), ""),
            (json!(["app", "api"]), None, NO_AZP),
            (json!(["app", "app"]), None, NO_AZP),
            (json!(["app", "api"]), Some(json!("api")), AZP),
            (json!("app"), Some(json!("api")), AZP),
            (json!("app"), Some(json!("")), AZP),
            (json!("app"), Some(json!(null)), "claims_malformed"),
            (json!("app"), Some(json!(["app"])), "claims_malformed"),
            (json!(["app", "evil"]), Some(json!("app")), UNTRUSTED),
            (json!(["app", ""]), Some(json!("app")), UNTRUSTED),
            (json!("api"), Some(json!("app")), NOT_US),
            (json!(["api"]), Some(json!("app")), NOT_US),
            (json!("App"), None, NOT_US),
            (json!("app "), None, NOT_US),
            (json!("app,api"), None, NOT_US),
            (json!(""), None, NOT_US),
            (json!([]), None, NOT_US),
            (json!(["app", 1]), Some(json!("app")), "claims_malformed"),
            (json!([["app"]]), None, "claims_malformed"),
            (json!({"app": true}), None, "claims_malformed"),
            (json!(null), None, "claims_malformed"),
        ] {
            let mut claims = with(json!({"aud": aud}));
            if let Some(azp) = &azp {
                claims["azp"] = azp.clone();
            }
            assert_eq!(judge(&claims, &Expected { trusted_audiences: &trusted, ..expected() }), why, "{aud} {azp:?}");
        }
        assert_eq!(judge(&without("aud"), &expected()), "there is no aud");
        assert_eq!(judge(&with(json!({"aud": ["app", "api"], "azp": "app"})), &expected()), UNTRUSTED);
    }

    #[test]
    fn oidc_3_1_3_7_e_now_is_before_exp_and_iat_is_sane() {
        let leeway = |leeway: i64| Expected { leeway, ..expected() };
        for (changes, own, why) in [
            (json!({"exp": NOW + 1}), leeway(0), ""),
            (json!({"exp": NOW}), leeway(0), "token_expired"),
            (json!({"exp": NOW - 9}), leeway(10), ""),
            (json!({"exp": NOW - 10}), leeway(10), "token_expired"),
            (json!({"iat": NOW + 60}), leeway(0), ""),
            (json!({"iat": NOW + 61}), leeway(0), "token_issued_in_future"),
            (json!({"iat": NOW - 86400}), leeway(0), ""),
            (json!({"iat": NOW - 86401}), leeway(0), "iat is more than 24 hours ago"),
            (json!({"iat": i64::MIN}), leeway(0), "iat is more than 24 hours ago"),
            (json!({"nbf": NOW}), leeway(0), ""),
            (json!({"nbf": NOW + 10}), leeway(0), ""),
            (json!({"nbf": NOW + 11}), leeway(0), "token_not_yet_valid"),
            (json!({"exp": "1800000300"}), leeway(0), "claims_malformed"),
            (json!({"exp": null}), leeway(0), "claims_malformed"),
            (json!({"iat": "1800000000"}), leeway(0), "claims_malformed"),
            (json!({"nbf": null}), leeway(0), "claims_malformed"),
            (json!({"exp": i64::MAX, "iat": NOW}), leeway(i64::MAX), ""),
        ] {
            assert_eq!(judge(&with(changes.clone()), &own), why, "{changes}");
        }
        assert_eq!(judge(&without("exp"), &expected()), "there is no exp");
        assert_eq!(judge(&without("iat"), &expected()), "there is no iat");
        for now in [i64::MIN, i64::MAX] {
            assert_ne!(judge_at(&good(), &expected(), now), "");
        }
    }

    #[test]
    fn oidc_3_1_3_7_f_the_nonce_is_that_of_the_login() {
        let refreshed = Expected { nonce: None, ..expected() };
        let empty = Expected { nonce: Some(""), ..expected() };
        let other = "nonce is not that of the login";
        assert_eq!(judge(&good(), &expected()), "");
        for nonce in ["", "n-2", "N-1", "n-1 ", "n-", "n-11"] {
            assert_eq!(judge(&with(json!({"nonce": nonce})), &expected()), other, "{nonce}");
            assert_eq!(judge(&with(json!({"nonce": nonce})), &refreshed), "", "{nonce}");
        }
        for nonce in [json!(1), json!(["n-1"]), json!(null), json!(true), json!({})] {
            assert_eq!(judge(&with(json!({"nonce": nonce})), &expected()), "claims_malformed", "{nonce}");
            assert_eq!(judge(&with(json!({"nonce": nonce})), &refreshed), "claims_malformed", "{nonce}");
        }
        assert_eq!(judge(&without("nonce"), &expected()), "there is no nonce");
        assert_eq!(judge(&without("nonce"), &empty), "there is no nonce");
        assert_eq!(judge(&without("nonce"), &refreshed), "");
        let twice = good().to_string().replacen('{', r#"{"nonce":"n-1","#, 1);
        let token = token(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ES256"}), &twice);
        assert_eq!(said(verify(&token, &expected(), &keys_of(&[Algorithm::Es256]), NOW)), "claims_malformed");
    }

    #[test]
    fn oidc_3_1_3_8_a_at_hash_is_the_left_half_of_the_hash_that_the_algorithm_has() {
        assert_eq!(at_hash(Algorithm::Rs256, ACCESS_TOKEN), AT_HASH);
        let left = |hash: &[u8]| b64::encode(&hash[..hash.len() / 2]);
        let token_octets = ACCESS_TOKEN.as_bytes();
        let hashes = [
            left(&crypto::sha256(token_octets)),
            left(&crypto::sha384(token_octets)),
            left(&crypto::sha512(token_octets)),
        ];
        assert_eq!(hashes.each_ref().map(String::len), [22, 32, 43]);
        for &algorithm in Algorithm::ALL {
            let own = match algorithm.name() {
                "RS256" | "PS256" | "ES256" => 0,
                "RS384" | "PS384" | "ES384" => 1,
                _ => 2,
            };
            for (place, hash) in hashes.iter().enumerate() {
                let header = json!({"alg": algorithm.name(), "kid": algorithm.name()});
                let token = token(algorithm, &header, &with(json!({"at_hash": hash})).to_string());
                let why = said(verify(&token, &expected(), &keys_of(Algorithm::ALL), NOW));
                let right = if place == own { "" } else { "at_hash is not that of the access token" };
                assert_eq!(why, right, "{} {place}", algorithm.name());
            }
        }
        let other = Expected { access_token: "another", ..expected() };
        assert_eq!(judge(&with(json!({"at_hash": AT_HASH})), &other), "at_hash is not that of the access token");
        let padded = format!("{AT_HASH}==");
        // The last character carries four bits that nothing reads.
        let stray = AT_HASH.replace("RQ", "RR");
        for hash in ["", &padded, &stray, &AT_HASH[..21], &AT_HASH.to_lowercase()] {
            let why = judge(&with(json!({"at_hash": hash})), &expected());
            assert_eq!(why, "at_hash is not that of the access token", "{hash}");
        }
        for hash in [json!(null), json!(1), json!([AT_HASH])] {
            assert_eq!(judge(&with(json!({"at_hash": hash})), &expected()), "claims_malformed");
        }
    }

    #[test]
    fn oidc_2_a_the_subject_is_a_text_of_1_to_255_bytes() {
        for (sub, why) in [
            (json!("b"), ""),
            (json!("x".repeat(255)), ""),
            (json!("x".repeat(256)), "sub is empty or longer than 255 bytes"),
            (json!(""), "sub is empty or longer than 255 bytes"),
            (json!(7), "claims_malformed"),
            (json!(null), "claims_malformed"),
            (json!(["bob"]), "claims_malformed"),
        ] {
            assert_eq!(judge(&with(json!({"sub": sub})), &expected()), why, "{sub}");
        }
        assert_eq!(judge(&without("sub"), &expected()), "there is no sub");
    }

    #[test]
    fn oidc_12_2_a_a_refreshed_token_is_of_the_same_subject() {
        let of = |subject| Expected { nonce: None, subject: Some(subject), ..expected() };
        assert_eq!(judge(&without("nonce"), &of("bob")), "");
        for other in ["eve", "Bob", "bob ", ""] {
            assert_eq!(judge(&without("nonce"), &of(other)), "sub is not that of the session", "{other}");
        }
    }

    #[test]
    fn claims_are_one_strict_object() {
        let keys = keys_of(&[Algorithm::Es256]);
        for claims in ["", "[]", "null", "{", &format!("{} x", good())] {
            let token = token(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ES256"}), claims);
            assert_eq!(said(verify(&token, &expected(), &keys, NOW)), "claims_malformed", "{claims}");
        }
        assert_eq!(judge(&with(json!({"events": null})), &expected()), "events is there: it is a logout token");
    }
}
