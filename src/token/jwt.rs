//! JWT access tokens (RFC 9068): header policy, issuer, audience and required claims, in the order that costs least.

use std::sync::Arc;

use super::Facts;
use super::rule::Rule;
use crate::binding::Confirmation;
use crate::crypto::Algorithm;
use crate::jose::json::{Object, Value};
use crate::jose::jwk::JwkSet;
use crate::jose::jws::{Compact, Header, HeaderMemo, Type};
use crate::jose::{b64, claims, json};
use crate::reason::Reason;

/// Claims that RFC 9068 §2.2 requires, besides those that are always required.
pub(crate) const RFC9068_CLAIMS: [&str; 4] = ["sub", "client_id", "iat", "jti"];
/// Claims that no access token has: ID tokens (OpenID Connect Core §2, §3.1.3.6, §3.3.2.11) and logout tokens.
const FOREIGN_CLAIMS: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "events"];

/// An issuer and the audience expected from it. Its place in [`Policy::issuers`] also names its keys: no key can verify for another
/// issuer (RFC 8725 §3.8).
pub(crate) struct Issuer {
    pub(crate) name: String,
    /// `None` only where the configuration says so by name.
    pub(crate) audience: Option<Rule>,
}

/// Whether the claim `typ`, which some servers write, says that this is another kind of token.
fn is_foreign_kind(claims: &Object<'_>) -> bool {
    claims
        .get("typ")
        .and_then(Value::as_str)
        .is_some_and(|typ| ["ID", "Refresh", "Offline", "Logout"].iter().any(|kind| typ.eq_ignore_ascii_case(kind)))
}

impl Issuer {
    /// Checks the audience, and reads what decides. Without `exp` the token has no end of its own. The audience may be left out only
    /// where a `verified` JWT has it.
    fn facts(&self, claims: &Object<'_>, verified: bool) -> Result<Facts, Reason> {
        if let Some(audience) = &self.audience {
            match claims.at(&audience.path) {
                None if verified => {}
                None => return Err(Reason::ClaimMissing),
                Some(_) if audience.holds(claims)? => {}
                Some(_) => return Err(Reason::AudienceMismatch),
            }
        }
        for name in ["sub", "client_id", "jti"] {
            claims::text(claims, name)?;
        }
        Ok(Facts {
            expires: claims::date(claims, "exp")?.unwrap_or(i64::MAX),
            not_before: claims::date(claims, "nbf")?,
            issued: claims::date(claims, "iat")?,
            confirmation: Confirmation::of_claims(claims),
        })
    }
}

/// What an access token must look like.
pub(crate) struct Policy {
    /// At least one; the first is that of opaque tokens.
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) types: Vec<Type>,
    /// `claims_required`; `None`: RFC 9068's for `at+jwt`, and what tells an access token for the rest.
    pub(crate) claims_required: Option<Vec<String>>,
    /// `claims_forbidden`; `None`: none for `at+jwt`, [`FOREIGN_CLAIMS`] else.
    pub(crate) claims_forbidden: Option<Vec<String>>,
    pub(crate) headers: HeaderMemo,
}

/// A token that was read, and whose signature was not checked.
pub(crate) struct Unverified<'a> {
    parts: Compact<'a>,
    header: Arc<Header>,
    payload: Vec<u8>,
    /// Which issuer it claims to be from.
    pub(crate) issuer: usize,
    pub(crate) facts: Facts,
}

impl Policy {
    /// Reads a token and checks what costs little, so that junk never costs a signature check.
    pub(crate) fn read<'a>(&self, token: &'a [u8]) -> Result<Unverified<'a>, Reason> {
        let parts = Compact::split(token)?;
        let header = self.headers.parse(parts.header)?;
        if !self.algorithms.contains(&header.algorithm) {
            return Err(Reason::AlgorithmRefused);
        }
        if !self.types.contains(&header.typ) {
            return Err(Reason::TypeRefused);
        }
        let payload = b64::decode(parts.payload).ok_or(Reason::TokenNotJwt)?;
        let (issuer, facts) = self.facts(header.typ, &payload)?;
        Ok(Unverified { parts, header, payload, issuer, facts })
    }

    fn facts(&self, typ: Type, payload: &[u8]) -> Result<(usize, Facts), Reason> {
        let claims = json::parse_object(payload).map_err(|_| Reason::ClaimsMalformed)?;
        // RFC 9068 §4: exact comparison, a trailing slash matters.
        let name = claims::text(&claims, "iss")?.ok_or(Reason::ClaimMissing)?;
        let (issuer, expected) =
            self.issuers.iter().enumerate().find(|(_, own)| own.name == name).ok_or(Reason::IssuerMismatch)?;
        let facts = expected.facts(&claims, false)?;
        if claims.get("exp").is_none() {
            return Err(Reason::ClaimMissing);
        }
        self.check_kind(typ, &claims)?;
        Ok((issuer, facts))
    }

    /// The facts of a token that its issuer vouches for by introspection (RFC 7662 §2.2). What the response says is held to the rules of
    /// a JWT's claims; what it leaves out, and a JWT could not, is `iss` and `exp`, and of a `verified` JWT whatever the JWT itself says.
    pub(crate) fn introspected(&self, issuer: usize, claims: &Object<'_>, verified: bool) -> Result<Facts, Reason> {
        let expected = self.issuers.get(issuer).ok_or(Reason::InternalError)?;
        if claims::text(claims, "iss")?.is_some_and(|name| name != expected.name) {
            return Err(Reason::IssuerMismatch);
        }
        // A refresh token is active, too (RFC 7662 §2.1).
        let typ = claims::text(claims, "token_type")?;
        let is = |name: &str| typ.is_some_and(|typ| typ.eq_ignore_ascii_case(name));
        let (bearer, dpop) = (is("Bearer"), is("DPoP"));
        let named = bearer || dpop || is("access_token");
        if typ.is_some() && !named {
            return Err(Reason::NotAnAccessToken);
        }
        let forbidden = match &self.claims_forbidden {
            Some(names) => names.iter().any(|name| claims.get(name).is_some()),
            None => !named && FOREIGN_CLAIMS.iter().any(|name| claims.get(name).is_some()),
        };
        if forbidden || is_foreign_kind(claims) {
            return Err(Reason::NotAnAccessToken);
        }
        let missing = |name: &String| claims.get(name).is_none_or(|value| *value == Value::Null);
        if !verified && self.claims_required.iter().flatten().any(missing) {
            return Err(Reason::ClaimMissing);
        }
        let mut facts = expected.facts(claims, verified)?;
        // RFC 9449 §6.2: it is `DPoP` where there is a `jkt`, and only there.
        let is_key_bound = facts.confirmation.key().is_some();
        if (dpop && !is_key_bound) || (bearer && is_key_bound) {
            facts.confirmation = Confirmation::Refused(Reason::ConfirmationMalformed);
        }
        Ok(facts)
    }

    /// Whether these are the claims of an access token, and complete.
    fn check_kind(&self, typ: Type, claims: &Object<'_>) -> Result<(), Reason> {
        let present = |name: &str| claims.get(name).is_some_and(|value| *value != Value::Null);
        let any = |names: &[&str]| names.iter().any(|name| present(name));
        // `null` is something, too, where it should not be.
        let forbidden = match &self.claims_forbidden {
            Some(names) => names.iter().any(|name| claims.get(name).is_some()),
            None => typ != Type::AccessToken && FOREIGN_CLAIMS.iter().any(|name| claims.get(name).is_some()),
        };
        if forbidden || (typ != Type::AccessToken && is_foreign_kind(claims)) {
            return Err(Reason::NotAnAccessToken);
        }
        match &self.claims_required {
            Some(required) if required.iter().all(|name| present(name)) => Ok(()),
            Some(_) => Err(Reason::ClaimMissing),
            None if typ == Type::AccessToken => {
                if RFC9068_CLAIMS.iter().all(|name| present(name)) {
                    Ok(())
                } else {
                    Err(Reason::ClaimMissing)
                }
            }
            // Without a type of its own (RFC 8725 §3.12) an access token is told from the issuer's other tokens by its claims.
            None if any(&["client_id", "scope", "scp"]) || (present("roles") && any(&["azp", "appid"])) => Ok(()),
            None => Err(Reason::NotAnAccessToken),
        }
    }

    /// Checks the signature with the keys of the token's issuer, and gives out the claims.
    pub(crate) fn verify(&self, token: Unverified<'_>, keys: &JwkSet) -> Result<Vec<u8>, Reason> {
        let Unverified { parts, header, payload, .. } = token;
        keys.verify(&parts, &header)?;
        self.headers.remember(parts.header, &header);
        Ok(payload)
    }
}
