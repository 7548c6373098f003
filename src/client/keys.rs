//! The keys of one issuer: configured, or fetched when they are needed, kept, and fetched again when a token names one that is not there.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::{self, Domain};
use super::{Failure, Lifetimes, RETRY_S, Server, is_younger};
use crate::crypto::{self, random};
use crate::jose::jwk::{JwkSet, SkippedKey};
use crate::reason::Reason;
use crate::steps::{Endpoint, Host, Refusal};

/// How often a worker looks whether another one has fetched the keys, in milliseconds.
const POLL_MS: u32 = 25;

/// Names one fetched set over all workers; all zero before the first.
type Name = [u8; 16];

/// Why keys are fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// There are none, or they are too old.
    Load,
    /// A token's key is not among them, or its signature is wrong: once in a cool-down.
    Refetch,
}

/// Keys that may be used.
#[derive(Clone)]
pub(crate) struct Usable {
    pub(crate) set: Arc<JwkSet>,
    /// When they are to be looked at again, Unix seconds.
    pub(crate) until: i64,
}

pub(crate) struct Keys {
    /// Never fetched: the set is the configuration's.
    fixed: bool,
    lifetimes: Lifetimes,
    cache: Mutex<Cache>,
    /// Changes whenever a key may have gone: what was verified before is to be verified again.
    epoch: AtomicU32,
}

#[derive(Default)]
struct Cache {
    current: Option<Current>,
    /// Not before this time are keys loaded again, or fetched for a token.
    next_load: i64,
    next_refetch: i64,
    /// The last fetch failed.
    failed: bool,
    /// Until when this process holds the lock of a load and of a refetch.
    holds: [i64; 2],
}

struct Current {
    set: Arc<JwkSet>,
    at: i64,
    name: Name,
    digest: [u8; 32],
    skipped: Vec<SkippedKey>,
}

impl Keys {
    pub(crate) fn new(configured: Option<JwkSet>, lifetimes: Lifetimes) -> Keys {
        let fixed = configured.is_some();
        let current = configured.map(|set| Current {
            set: Arc::new(set),
            at: 0,
            name: Name::default(),
            digest: [0; 32],
            skipped: Vec::new(),
        });
        Keys { fixed, lifetimes, cache: Mutex::new(Cache { current, ..Cache::default() }), epoch: AtomicU32::new(0) }
    }

    /// Whether the keys are the configuration's, and never fetched.
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing that can panic runs under the lock.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The keys to verify with at `now`.
    ///
    /// # Errors
    /// `Some`: fetch them first. `None`: that failed a moment ago.
    pub(crate) fn usable(&self, now: i64) -> Result<Usable, Option<Why>> {
        let cache = self.cache();
        let wait = now < cache.next_load;
        let retry = if wait { None } else { Some(Why::Load) };
        let Some(current) = &cache.current else {
            return Err(retry);
        };
        let usable = |until: i64| Usable { set: Arc::clone(&current.set), until };
        if self.fixed {
            Ok(usable(i64::MAX))
        } else if is_younger(current.at, self.lifetimes.max_age, now) {
            Ok(usable(current.at.saturating_add(self.lifetimes.max_age)))
        } else if wait && is_younger(current.at, self.lifetimes.max_stale, now) {
            // RFC 9700 knows no better: the last good set, until it can be fetched again, and not for ever.
            Ok(usable(cache.next_load))
        } else {
            Err(retry)
        }
    }

    /// What to do about a token that the keys do not verify.
    ///
    /// # Errors
    /// There is nothing to be done; the reason of the refusal.
    pub(crate) fn after(&self, reason: Reason, now: i64) -> Result<Why, Reason> {
        let cache = self.cache();
        if self.fixed {
            Err(reason)
        } else if now >= cache.next_refetch {
            Ok(Why::Refetch)
        } else if cache.failed && reason == Reason::KeyUnknown {
            // The server may well have that key: it was asked, and did not say.
            Err(Reason::KeysUnavailable)
        } else {
            Err(reason)
        }
    }

    /// Whether the set in use was fetched at `time` or later.
    pub(crate) fn fetched_since(&self, time: i64) -> bool {
        self.cache().current.as_ref().is_some_and(|current| current.at >= time)
    }

    fn name(&self) -> Name {
        self.cache().current.as_ref().map_or_else(Name::default, |current| current.name)
    }

    fn install(&self, body: &[u8], name: Name, at: i64) -> Result<(), String> {
        let digest = crypto::sha256(body);
        let mut cache = self.cache();
        cache.failed = false;
        if let Some(current) = &mut cache.current
            && current.digest == digest
        {
            (current.at, current.name) = (at, name);
            return Ok(());
        }
        let (set, skipped) = JwkSet::parse(body).map_err(|e| e.to_string())?;
        cache.current = Some(Current { set: Arc::new(set), at, name, digest, skipped });
        self.epoch.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What the set in use leaves out, and why.
    pub(crate) fn skipped(&self) -> Vec<SkippedKey> {
        self.cache().current.as_ref().map(|current| current.skipped.clone()).unwrap_or_default()
    }
}

impl Server {
    /// Fetches the keys, or takes them over from another worker. If that fails the old ones stay, and it is noted.
    pub(crate) async fn fetch_keys(&self, host: &Host, why: Why) -> Result<(), Refusal> {
        let before = self.keys.name();
        if self.adopt(host, 0).await {
            return Ok(());
        }
        if !self.lock(host, why, before).await {
            return Ok(());
        }
        let outcome = self.download(host).await;
        // The answer to several requests at once is looked at once.
        if self.keys.name() != before {
            return Ok(());
        }
        let now = host.now();
        let outcome = match outcome {
            Ok(body) => {
                let name = random::<16>().ok_or(Reason::InternalError)?;
                match self.keys.install(&body, name, now) {
                    Ok(()) => {
                        self.cool_down(why, now, false, None);
                        let value = [&name[..], &body].concat();
                        self.shared.write(host, self.keys_key(), now, &value, self.lifetimes.max_stale).await;
                        return Ok(());
                    }
                    Err(detail) => Failure { detail, retry: None },
                }
            }
            Err(failure) => failure,
        };
        self.cool_down(why, now, true, outcome.retry);
        if why == Why::Load {
            self.shared.unlock(host, self.lock_key(why)).await;
        }
        // With the old keys the request may still be decided; without any it is over.
        match self.keys.usable(host.now()) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::new(Reason::KeysUnavailable, outcome.detail)),
        }
    }

    fn keys_key(&self) -> [u8; 32] {
        shared::hash(Domain::Jwks, &[self.issuer.as_bytes(), self.jwks_uri.as_deref().unwrap_or_default().as_bytes()])
    }

    fn lock_key(&self, why: Why) -> [u8; 32] {
        let domain = if why == Why::Load { Domain::JwksLoad } else { Domain::JwksRefetch };
        shared::hash(domain, &[&self.keys_key()])
    }

    /// Takes over a set that another worker fetched, if it is another one than ours and not older.
    async fn adopt(&self, host: &Host, delay_ms: u32) -> bool {
        let Some((at, value)) = self.shared.read_after(host, self.keys_key(), delay_ms).await else {
            return false;
        };
        let Some((name, body)) = value.split_first_chunk::<16>() else {
            return false;
        };
        let own = self.keys.cache().current.as_ref().map(|current| (current.name, current.at));
        let newer = own.is_none_or(|(own, own_at)| own != *name && own_at <= at);
        newer && is_younger(at, self.lifetimes.max_age, host.now()) && self.keys.install(body, *name, at).is_ok()
    }

    /// Whether it is on this worker to fetch. If another one does, waits for what it fetches.
    async fn lock(&self, host: &Host, why: Why, before: Name) -> bool {
        let key = self.lock_key(why);
        let exchange_s = i64::from(self.timeouts.total).div_euclid(1000).saturating_add(1);
        let ttl = if why == Why::Load { exchange_s } else { self.lifetimes.cool_down };
        let now = host.now();
        let holds = |cache: &Cache| match (why, cache.holds) {
            (Why::Load, [until, _]) | (Why::Refetch, [_, until]) => now < until,
        };
        if holds(&self.keys.cache()) {
            // Another request of this process began it: the host sees that it is the same fetch.
            return true;
        }
        match self.shared.lock(host, key, &before, ttl).await {
            Some(true) => {
                let mut cache = self.keys.cache();
                let [load, refetch] = &mut cache.holds;
                *(if why == Why::Load { load } else { refetch }) = now.saturating_add(exchange_s);
                return true;
            }
            // No store: each worker for itself.
            None => return true,
            Some(false) => {}
        }
        if holds(&self.keys.cache()) {
            return true;
        }
        let under_way = self.shared.locked(host, key).await.is_some_and(|value| value == before);
        if under_way {
            for _ in 0..self.timeouts.total.div_euclid(POLL_MS).max(1) {
                if self.adopt(host, POLL_MS).await || self.keys.name() != before {
                    return false;
                }
            }
        }
        if why == Why::Refetch {
            // Whoever had the lock has asked in this cool-down.
            self.cool_down(why, host.now(), under_way, None);
            return false;
        }
        true
    }

    fn cool_down(&self, why: Why, now: i64, failed: bool, retry: Option<i64>) {
        let mut cache = self.keys.cache();
        cache.failed = failed;
        cache.holds = [0, 0];
        let has_keys = cache.current.as_ref().is_some_and(|c| is_younger(c.at, self.lifetimes.max_stale, now));
        let wait = |otherwise: i64| now.saturating_add(retry.unwrap_or(otherwise));
        match why {
            Why::Refetch => cache.next_refetch = wait(0).max(now.saturating_add(self.lifetimes.cool_down)),
            Why::Load if failed => {
                cache.next_load = wait(if has_keys { self.lifetimes.cool_down } else { RETRY_S });
                // What cannot be loaded cannot be refetched either.
                cache.next_refetch = cache.next_refetch.max(cache.next_load);
            }
            Why::Load => cache.next_load = 0,
        }
    }

    async fn download(&self, host: &Host) -> Result<Vec<u8>, Failure> {
        let url = match &self.jwks_uri {
            Some(url) => Ok(url.clone()),
            None => match self.metadata(host).await {
                Ok(metadata) => metadata.jwks_uri(),
                Err(refusal) => Err(refusal),
            },
        };
        let url = url
            .map_err(|refusal| Failure { detail: refusal.detail.map(String::from).unwrap_or_default(), retry: None })?;
        let fetched = self.send(host, self.document(Endpoint::Jwks, &url)).await;
        // Both media types are in use (RFC 7517 §8.5).
        let media_type =
            if fetched.is("application/jwk-set+json") { "application/jwk-set+json" } else { "application/json" };
        match Failure::of(&fetched, media_type) {
            None => Ok(fetched.body),
            Some(failure) => Err(Failure { detail: format!("{url}: {}", failure.detail), ..failure }),
        }
    }
}
