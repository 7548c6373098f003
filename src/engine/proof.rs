//! DPoP proofs in the engine: the part of the configuration that is about them, and what they do to a request (RFC 9449).

use core::net::IpAddr;

use ipnet::IpNet;

use super::config::{ConfigError, Options};
use super::public::Public;
use super::respond::Changes;
use super::{Engine, Request, Subject};
use crate::binding::dpop::{Given, Nonces, Offered, Proofs, Use, uri};
use crate::binding::{Bound, Mode, Policy, Scheme};
use crate::cert::Thumbprint;
use crate::client::shared::Shared;
use crate::crypto::Algorithm;
use crate::reason::Reason;
use crate::steps::{Host, Refusal};

/// Longest `dpop_proof_lifetime`, in seconds: each proof is remembered for so long.
const MAX_LIFETIME: i64 = 3600;
/// Largest `dpop_proof_leeway`, in seconds (FAPI 2.0 §5.3.2.1).
const MAX_LEEWAY: i64 = 60;

/// What `proof_of_possession_dpop` switches on.
const OF_DPOP: [&str; 12] = [
    "proof_of_possession_either",
    "dpop_algorithms",
    "dpop_proof_lifetime",
    "dpop_proof_leeway",
    "dpop_use_nonce",
    "dpop_nonce_secret",
    "dpop_nonce_previous_secrets",
    "public_origin",
    "public_path_prefix",
    "trusted_ips",
    "upstream_dpop_as_bearer",
    "insecure_dpop_replay",
];

/// How proofs are taken.
pub(crate) struct Dpop {
    pub(crate) proofs: Proofs,
    pub(crate) public: Public,
    /// `upstream_dpop_as_bearer`
    pub(crate) as_bearer: bool,
    /// `insecure_dpop_replay`
    ignores_replay: bool,
}

/// `proof_of_possession_mtls`, `proof_of_possession_dpop` and `proof_of_possession_either`.
pub(super) fn policy(options: &Options<'_>) -> Result<Policy, ConfigError> {
    const DPOP: &str = "proof_of_possession_dpop";
    const EITHER: &str = "proof_of_possession_either";
    let mode = |name, default| match options.string(name)?.as_deref() {
        None => Ok(default),
        Some("strict") => Ok(Mode::Strict),
        Some("optional") => Ok(Mode::Optional),
        Some("off") => Ok(Mode::Off),
        Some(_) => options.error(name, "must be strict, optional or off"),
    };
    let dpop = mode(DPOP, Mode::Off)?;
    // Who asks for proofs alone has clients without certificates.
    let mtls = mode("proof_of_possession_mtls", if dpop == Mode::Off { Mode::Strict } else { Mode::Off })?;
    let either = options.boolean(EITHER)?;
    if either && (mtls, dpop) != (Mode::Strict, Mode::Strict) {
        return options.error(
            EITHER,
            "needs proof_of_possession_mtls and proof_of_possession_dpop to be strict: of these one is enough",
        );
    }
    Ok(Policy { mtls, dpop, either })
}

impl Dpop {
    /// `None` where proofs are not taken.
    pub(super) fn of(options: &Options<'_>, policy: Policy) -> Result<Option<Dpop>, ConfigError> {
        if policy.dpop == Mode::Off {
            return match OF_DPOP.iter().find(|name| options.is_set(name)) {
                Some(name) => options.error(name, "has no effect without proof_of_possession_dpop"),
                None => Ok(None),
            };
        }
        let lifetime = options.number("dpop_proof_lifetime", 60, 1..=MAX_LIFETIME)?;
        let ignores_replay = options.boolean("insecure_dpop_replay")?;
        if !options.is_set("store_secret") && !ignores_replay {
            return options.error(
                "store_secret",
                "required by proof_of_possession_dpop: without a shared store a proof could be used again; set insecure_dpop_replay to true if that is meant",
            );
        }
        Ok(Some(Dpop {
            proofs: Proofs {
                algorithms: algorithms(options)?,
                lifetime,
                leeway: options.number("dpop_proof_leeway", 5, 0..=MAX_LEEWAY)?,
                nonces: nonces(options)?,
            },
            public: public(options)?,
            as_bearer: options.boolean("upstream_dpop_as_bearer")?,
            ignores_replay,
        }))
    }

    /// The algorithms for the challenge (RFC 9449 §7.1).
    pub(crate) fn algs(&self) -> String {
        self.proofs.algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(" ")
    }

    /// Whether proofs are taken of which nobody can tell whether they were used before.
    pub(crate) fn ignores_replay(&self) -> bool {
        self.ignores_replay
    }

    /// Reads the proof of a request for a token.
    pub(super) fn read(&self, shared: &Shared, request: &Request<'_>, token: &[u8]) -> Result<Offered, Refusal> {
        let http = request.http.copied().unwrap_or_default();
        let uri = self.public.uri(&http);
        // A request that has no proof at all is told that.
        if http.dpop_count == 0 {
            return Err(Reason::ProofMissing.into());
        }
        let uri = uri?;
        let given = Given {
            proof: http.dpop,
            count: http.dpop_count,
            method: http.method,
            uri: &uri,
            token,
            now: request.now,
            passed: None,
        };
        // However long its upstream took before it redirected the request: the proof that the request used stays its own.
        if let Some((name, when)) = http.spent.split_last_chunk()
            && let Ok(offered) = self.proofs.read(&Given { passed: Some(i64::from_be_bytes(*when)), ..given })
            && shared.name_of_proof(&offered.name()) == name
        {
            return Ok(offered);
        }
        self.proofs.read(&given)
    }
}

fn algorithms(options: &Options<'_>) -> Result<Vec<Algorithm>, ConfigError> {
    let default = || vec![Algorithm::Es256, Algorithm::Ps256, Algorithm::EdDsa];
    Ok(options.algorithms("dpop_algorithms")?.unwrap_or_else(default))
}

fn nonces(options: &Options<'_>) -> Result<Option<Nonces>, ConfigError> {
    const USE: &str = "dpop_use_nonce";
    const NAME: &str = "dpop_nonce_secret";
    const PREVIOUS: &str = "dpop_nonce_previous_secrets";
    if !options.boolean(USE)? {
        return match [NAME, PREVIOUS].into_iter().find(|name| options.is_set(name)) {
            Some(name) => options.error(name, "has no effect without dpop_use_nonce"),
            None => Ok(None),
        };
    }
    match options.secrets(NAME, PREVIOUS)? {
        Some(secrets) => Ok(Some(Nonces::new(&secrets))),
        None => options.error(NAME, "required by dpop_use_nonce (openssl rand -base64 32): the same on all nodes"),
    }
}

fn public(options: &Options<'_>) -> Result<Public, ConfigError> {
    const ORIGIN: &str = "public_origin";
    const PREFIX: &str = "public_path_prefix";
    const TRUSTED: &str = "trusted_ips";
    let origins = match options.raw(ORIGIN) {
        Some(raw) if raw.starts_with('"') => options.string(ORIGIN)?.into_iter().collect(),
        _ => options.strings(ORIGIN)?.unwrap_or_default(),
    };
    let mut authorities = Vec::new();
    for origin in origins {
        let normal = uri::normal(&origin).filter(|_| !origin.contains(['?', '#']));
        let authority = normal.as_deref().and_then(|uri| uri.strip_prefix("https://")?.strip_suffix('/'));
        match authority.filter(|authority| !authority.contains('/')) {
            Some(authority) => authorities.push(authority.to_owned()),
            None => {
                return options.error(
                    ORIGIN,
                    "must be https://, a host in ASCII, and a port where it is not 443: the path is public_path_prefix",
                );
            }
        }
    }
    let prefix = match options.string(PREFIX)? {
        None => None,
        Some(prefix) => {
            let path = uri::path(&prefix).filter(|_| prefix.starts_with('/') && !prefix.contains(['?', '#']));
            match path.map(|path| path.trim_end_matches('/').to_owned()) {
                Some(path) if !path.is_empty() => Some(path),
                _ => return options.error(PREFIX, "must be a path that begins with /, without query"),
            }
        }
    };
    let (mut trusted, mut trusts_unix) = (Vec::new(), false);
    for entry in options.strings(TRUSTED)?.unwrap_or_default() {
        match entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from)) {
            Ok(net) => trusted.push(canonical(net)),
            Err(_) if entry == "unix:" => trusts_unix = true,
            Err(_) => {
                return options.error(TRUSTED, "must be addresses, networks such as 10.0.0.0/8, or unix:");
            }
        }
    }
    if authorities.is_empty() && trusted.is_empty() && !trusts_unix {
        return options.error(
            ORIGIN,
            "required by proof_of_possession_dpop: the origin in the URLs that clients use, such as https://api.example.com; by a Host that \
             anybody can send, a proof for another server would pass. Or trusted_ips, the proxies that say it",
        );
    }
    Ok(Public { authorities, prefix, trusted, trusts_unix })
}

/// IPv4 in IPv6 as IPv4, as addresses are compared.
fn canonical(net: IpNet) -> IpNet {
    let (addr, len) = (net.addr().to_canonical(), net.prefix_len());
    match len.checked_sub(96) {
        Some(len) if addr.is_ipv4() && net.addr().is_ipv6() => IpNet::new(addr, len).unwrap_or(net),
        _ => net,
    }
}

impl Dpop {
    /// What the upstream gets of a token and its proof: the token by itself, since nobody can use the proof once more; unless the operator
    /// wants both as they came. A proof goes with no other token than its own.
    pub(super) fn change(&self, changes: &mut Changes, token: &[u8], hides: bool, is_own: bool) {
        // It is a token68, which is ASCII.
        let with = |scheme: &str| std::str::from_utf8(token).ok().map(|token| [scheme, token].concat());
        if !self.as_bearer && !hides && !is_own {
            if changes.request.iter().any(|(name, _)| &**name == AUTHORIZATION) {
                changes.set(AUTHORIZATION, with("DPoP "));
            }
            return;
        }
        changes.set(AUTHORIZATION, with("Bearer ").filter(|_| !hides));
        changes.set("dpop", None);
    }
}

impl Engine {
    /// Takes the proof that a token needs which passed all else: the last of all checks. What the client should be told then.
    pub(super) async fn take_proof(
        &self,
        host: &Host,
        subject: &Subject<'_>,
        key: &Thumbprint,
    ) -> Result<Taken, Refusal> {
        let (Some(dpop), Some(offered)) = (&self.dpop, subject.offered) else {
            return Err(Reason::ProofMissing.into());
        };
        let proved = offered.as_ref().map_err(Refusal::clone)?.prove(key)?;
        let name = self.shared.name_of_proof(&proved.name());
        let used = if dpop.ignores_replay && !self.shares {
            Use::Ignored
        } else {
            // Another node's clock may be behind.
            let ttl = proved.rest(host.now()).saturating_add(dpop.proofs.leeway).saturating_add(1);
            match self.shared.spend(host, name, subject.request, ttl).await {
                Use::Unknown if dpop.ignores_replay => Use::Ignored,
                used => used,
            }
        };
        let bound = proved.bound(used)?;
        // What the store noted only then it may have forgotten from an earlier use.
        if proved.is_over(host.now()) {
            let has_nonce = dpop.proofs.nonces.is_some();
            let reason = if has_nonce { Reason::ProofNonceInvalid } else { Reason::ProofExpired };
            return Err(Refusal::new(reason, "while the authorization server or the store was asked"));
        }
        let nonce = if proved.is_ageing() { self.nonce(host.now()) } else { None };
        let spent = (used == Use::First).then(|| [&name[..], &proved.when().to_be_bytes()].concat());
        Ok(Taken { bound, nonce, spent, is_unremembered: used == Use::Ignored })
    }

    /// A nonce of now, where there are any.
    fn nonce(&self, now: i64) -> Option<String> {
        self.dpop.as_ref()?.proofs.nonces.as_ref()?.make(now)
    }

    /// Gives the client the nonce that it is refused for (RFC 9449 §9).
    pub(super) fn with_nonce(&self, refusal: Refusal, now: i64) -> Refusal {
        if !matches!(refusal.reason, Reason::ProofNonceMissing | Reason::ProofNonceInvalid) {
            return refusal;
        }
        let mut response =
            refusal.response.unwrap_or_else(|| Box::new(self.response_to(Scheme::Dpop, refusal.reason).clone()));
        let nonce = self.nonce(now).map(nonce_headers).into_iter().flatten();
        for (name, value) in nonce {
            response.headers.retain(|(own, _)| *own != name);
            response.headers.push((name, value));
        }
        Refusal { response: Some(response), ..refusal }
    }
}

const AUTHORIZATION: &str = "authorization";

/// For the log, where a proof is taken that could come again.
pub(super) const UNREMEMBERED: &str = "the proof is not remembered (insecure_dpop_replay)";

/// What a response with a nonce has: nobody may keep it (RFC 9449 §8.2).
pub(super) fn nonce_headers(nonce: String) -> [(&'static str, String); 2] {
    [("dpop-nonce", nonce), ("cache-control", "no-store".to_owned())]
}

/// A proof that was taken.
pub(super) struct Taken {
    pub(super) bound: Bound,
    /// The nonce that the client should use from now on
    pub(super) nonce: Option<String>,
    /// What the store knows it by, and then the time that it was held against
    pub(super) spent: Option<Vec<u8>>,
    /// Nobody will notice if the proof comes again.
    pub(super) is_unremembered: bool,
}
