//! The verifier: token, certificate and time in, decision and claims out. No cache, no HTTP.

use super::config::{Config, ConfigError};
use crate::binding::{self, Bound, Mode};
use crate::cert::{ClientCertificate, Identity};
use crate::jose::json;
use crate::jose::jwk::SkippedKey;
use crate::reason::Reason;
use crate::token::Facts;
use crate::token::jwt::Policy;
use crate::token::rule::Rule;

/// A token that passed every check, for one request.
#[derive(Debug)]
pub struct Verified {
    /// What later requests with the same token are decided from.
    pub facts: Facts,
    /// The claims as JSON, exactly as the issuer signed them.
    pub claims: Vec<u8>,
    pub(crate) bound: Bound,
}

/// Layer 2: decides about one token and one certificate. Immutable; may be shared by threads.
pub struct Verifier {
    policy: Policy,
    mode: Mode,
    certificate_validity: bool,
    leeway: i64,
    scopes: Option<Rule>,
    groups: Option<Rule>,
    roles: Option<Rule>,
    skipped_keys: Vec<SkippedKey>,
}

impl Verifier {
    /// Makes a verifier from a configuration in JSON.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(config: &[u8]) -> Result<Verifier, ConfigError> {
        Config::parse(config).map(Verifier::from)
    }

    /// The keys of the configured set that cannot be used.
    pub fn skipped_keys(&self) -> &[SkippedKey] {
        &self.skipped_keys
    }

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

    /// Checks `token` against `certificate` at `now` (Unix seconds).
    ///
    /// This does not look at how the token was sent: several tokens, or another scheme, are the [`super::Engine`]'s matter.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn verify(&self, token: &[u8], certificate: ClientCertificate<'_>, now: i64) -> Result<Verified, Reason> {
        let identity = self.identity(certificate)?;
        self.verify_identity(token, identity.as_ref(), now)
    }

    pub(crate) fn verify_identity(
        &self,
        token: &[u8],
        identity: Option<&Identity>,
        now: i64,
    ) -> Result<Verified, Reason> {
        let unverified = self.policy.read(token)?;
        let facts = unverified.facts;
        let bound = self.check_request(&facts, identity, now)?;
        let claims = self.policy.verify(unverified)?;
        self.authorize(&claims)?;
        Ok(Verified { facts, claims, bound })
    }

    /// The checks that belong to one request: they run for a remembered token as for a new one.
    pub(crate) fn check_request(&self, facts: &Facts, identity: Option<&Identity>, now: i64) -> Result<Bound, Reason> {
        facts.check_time(now, self.leeway)?;
        let bound = binding::check(self.mode, &facts.confirmation, identity)?;
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
        Ok(bound)
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
        self.mode != Mode::Off || self.certificate_validity
    }

    /// Scopes, groups and roles: after the signature, since 403 says that the token is good.
    fn authorize(&self, claims: &[u8]) -> Result<(), Reason> {
        let rules = [
            (&self.scopes, Reason::InsufficientScope),
            (&self.groups, Reason::InsufficientGroups),
            (&self.roles, Reason::InsufficientRoles),
        ];
        if rules.iter().all(|(rule, _)| rule.is_none()) {
            return Ok(());
        }
        let claims = json::parse_object(claims).map_err(|_| Reason::ClaimsMalformed)?;
        for (rule, reason) in rules {
            if let Some(rule) = rule
                && !rule.holds(&claims)?
            {
                return Err(reason);
            }
        }
        Ok(())
    }
}

impl From<Config> for Verifier {
    fn from(config: Config) -> Verifier {
        Verifier {
            policy: config.policy,
            mode: config.mode,
            certificate_validity: config.certificate_validity,
            leeway: config.leeway,
            scopes: config.scopes,
            groups: config.groups,
            roles: config.roles,
            skipped_keys: config.skipped_keys,
        }
    }
}
