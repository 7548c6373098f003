//! The rules that every token is held to; and the verifier: token, certificate and time in, decision and claims out. No cache, no HTTP.

use super::config::{Config, ConfigError};
use super::login::Holder;
use crate::binding::{self, Bound, Held, Mode, Policy as Possession, Scheme};
use crate::cert::{ClientCertificate, Identity};
use crate::jose::json::{self, Object};
use crate::jose::jwk::{JwkSet, SkippedKey};
use crate::reason::Reason;
use crate::token::Facts;
use crate::token::jwt::{Policy, Unverified};
use crate::token::rule::Rule;

/// A token that passed every check, for one request.
#[derive(Debug)]
pub struct Verified {
    /// What later requests with the same token are decided from.
    pub facts: Facts,
    /// The claims as JSON, exactly as the issuer signed them.
    pub claims: Vec<u8>,
    pub(crate) _bound: Bound,
}

/// Layer 2: decides about one token and one certificate. Immutable; may be shared by threads.
pub struct Verifier {
    rules: Rules,
    /// Of each issuer of the policy.
    keys: Vec<JwkSet>,
    skipped_keys: Vec<SkippedKey>,
}

impl Verifier {
    /// Makes a verifier from a configuration in JSON. It makes no requests, so the keys of each issuer must be in it.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(config: &[u8]) -> Result<Verifier, ConfigError> {
        let config = Config::parse(config)?;
        if config.logins.is_some() {
            return Err(ConfigError::new(
                "auth_methods",
                "asks for sessions, logins or grants, and a verifier has none",
            ));
        }
        if config.dpop.is_some() {
            return Err(ConfigError::new(
                "proof_of_possession_dpop",
                "needs an engine: a verifier knows no request that a proof could be for",
            ));
        }
        if !config.bearer || config.introspect_jwt {
            let name = if config.bearer { "introspect_jwt_tokens" } else { "auth_methods" };
            return Err(ConfigError::new(name, "asks for introspection, and a verifier makes no requests"));
        }
        let keys = config.servers.into_iter().map(|server| server.jwks).collect::<Option<Vec<_>>>();
        let Some(keys) = keys else {
            return Err(ConfigError::new("jwks", "required: a verifier makes no requests, so it cannot fetch keys"));
        };
        Ok(Verifier { rules: config.rules, keys, skipped_keys: config.skipped_keys })
    }

    /// The keys of the configured sets that cannot be used.
    pub fn skipped_keys(&self) -> &[SkippedKey] {
        &self.skipped_keys
    }

    /// Checks `token` against `certificate` at `now` (Unix seconds).
    ///
    /// This does not look at how the token was sent: several tokens, or another scheme, are the [`super::Engine`]'s matter.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn verify(&self, token: &[u8], certificate: ClientCertificate<'_>, now: i64) -> Result<Verified, Reason> {
        let identity = self.rules.identity(certificate)?;
        let unverified = self.rules.policy.read(token)?;
        let holder = Holder::Client(Scheme::Bearer);
        let bound = self.rules.check_request(&holder, &unverified.facts, identity.as_ref(), now)?.bound()?;
        let keys = self.keys.get(unverified.issuer).ok_or(Reason::InternalError)?;
        let facts = unverified.facts;
        let claims = self.rules.verify(unverified, keys)?;
        Ok(Verified { facts, claims, _bound: bound })
    }
}

/// What the configuration asks of a token and of a request, whoever vouches for the token.
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) possession: Possession,
    pub(crate) certificate_validity: bool,
    /// Sessions may be bound, whatever tokens are.
    pub(crate) has_sessions: bool,
    pub(crate) leeway: i64,
    pub(crate) scopes: Option<Rule>,
    pub(crate) groups: Option<Rule>,
    pub(crate) roles: Option<Rule>,
}

impl Rules {
    /// The scopes of `scopes_required`, for the challenge.
    pub(crate) fn scopes(&self) -> Option<String> {
        let mut words: Vec<&str> = Vec::new();
        for word in self.scopes.iter().flat_map(|rule| rule.required.iter().flatten()) {
            if !words.contains(&word.as_str()) {
                words.push(word);
            }
        }
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Checks the signature, then what a good token is allowed to; gives out the claims.
    pub(crate) fn verify(&self, token: Unverified<'_>, keys: &JwkSet) -> Result<Vec<u8>, Reason> {
        let claims = self.policy.verify(token, keys)?;
        if self.authorizes() {
            self.authorize(&json::parse_object(&claims).map_err(|_| Reason::ClaimsMalformed)?)?;
        }
        Ok(claims)
    }

    /// The checks that belong to one request: they run for a remembered token as for a new one.
    // With the holder known where it is called, the hot path is 40 instructions shorter.
    #[inline(always)]
    pub(crate) fn check_request(
        &self,
        holder: &Holder,
        facts: &Facts,
        identity: Option<&Identity>,
        now: i64,
    ) -> Result<Held, Reason> {
        facts.check_time(now, self.leeway)?;
        let held = match holder {
            Holder::Client(scheme) => binding::check(self.possession, *scheme, &facts.confirmation, identity)?,
            Holder::Gateway(bound_to) => Held::Bound(binding::check_session(bound_to.as_ref(), identity)?),
        };
        self.check_validity(identity, now)?;
        Ok(held)
    }

    /// What is to be known of a certificate for this configuration; nothing where no check needs it.
    pub(crate) fn identity(&self, certificate: ClientCertificate<'_>) -> Result<Option<Identity>, Reason> {
        if !self.needs_certificate() {
            return Ok(None);
        }
        if let ClientCertificate::Known(identity) = certificate {
            return Ok(Some(*identity));
        }
        let der = certificate.der().map_err(|_| Reason::CertificateMalformed)?;
        Ok(der.map(|der| Identity::of_der(&der, self.certificate_validity)))
    }

    pub(crate) fn needs_certificate(&self) -> bool {
        self.checks_certificate() || self.has_sessions
    }

    /// Whether tokens or dates are held against the certificate.
    pub(crate) fn checks_certificate(&self) -> bool {
        self.possession.mtls != Mode::Off || self.certificate_validity
    }

    /// What can be told before a token is asked about.
    pub(crate) fn foresee(&self, holder: &Holder, identity: Option<&Identity>, now: i64) -> Result<(), Reason> {
        if let Holder::Client(scheme) = holder {
            binding::foresee(self.possession, *scheme, identity)?;
        }
        self.check_validity(identity, now)
    }

    fn check_validity(&self, identity: Option<&Identity>, now: i64) -> Result<(), Reason> {
        if self.certificate_validity
            && let Some(identity) = identity
        {
            let validity = identity.validity.ok_or(Reason::CertificateMalformed)?;
            if now < validity.not_before {
                return Err(Reason::CertificateNotYetValid);
            }
            if now > validity.not_after {
                return Err(Reason::CertificateExpired);
            }
        }
        Ok(())
    }

    fn authorizes(&self) -> bool {
        self.scopes.is_some() || self.groups.is_some() || self.roles.is_some()
    }

    /// Scopes, groups and roles: after the signature, since 403 says that the token is good.
    pub(crate) fn authorize(&self, claims: &Object<'_>) -> Result<(), Reason> {
        self.authorize_by(claims, |_| true)
    }

    /// Likewise by as much as the claims say: for what is said besides of a token that was found to have all of it.
    pub(crate) fn authorize_present(&self, claims: &Object<'_>) -> Result<(), Reason> {
        self.authorize_by(claims, |rule| claims.at(&rule.path).is_some())
    }

    fn authorize_by(&self, claims: &Object<'_>, applies: impl Fn(&Rule) -> bool) -> Result<(), Reason> {
        for (rule, reason) in [
            (&self.scopes, Reason::InsufficientScope),
            (&self.groups, Reason::InsufficientGroups),
            (&self.roles, Reason::InsufficientRoles),
        ] {
            if let Some(rule) = rule
                && applies(rule)
                && !rule.holds(claims)?
            {
                return Err(reason);
            }
        }
        Ok(())
    }
}
