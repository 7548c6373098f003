//! The keys of one issuer: configured, or fetched when they are needed, kept, and fetched again when a token names one that is not there.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::{self, Domain};
use super::{Failure, Lifetimes, RETRY_S, Server, is_younger, waits};
use crate::crypto::random;
use crate::jose::jwk::{self, JwkSet, JwkSetError, SkippedKey};
use crate::reason::Reason;
use crate::steps::{Endpoint, Host, Refusal};

/// How often a worker looks, at the most, whether another one has fetched the keys, and how long it waits between at the least, in
/// milliseconds.
const POLLS: u32 = 80;
const MIN_POLL_MS: u32 = 25;

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
    /// When the server said that it has no key that can be used here: what was fetched until then is not taken from the store.
    withdrawn: Option<i64>,
    /// Until when this process fetches them on behalf of all: for a load, and for a token.
    leads: [i64; 2],
}

/// The lock of those who fetch keys: what its holder is at, since when, and the set that it had before.
struct Lock {
    state: LockState,
    since: i64,
    before: Name,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LockState {
    UnderWay,
    Ended,
    Failed,
}

impl Lock {
    fn pack(&self) -> Vec<u8> {
        [&[self.state as u8][..], &self.since.to_be_bytes(), &self.before].concat()
    }

    fn unpack(value: &[u8]) -> Option<Lock> {
        let (state, rest) = value.split_first()?;
        let (since, before) = rest.split_first_chunk()?;
        let state = match *state {
            0 => LockState::UnderWay,
            1 => LockState::Ended,
            _ => LockState::Failed,
        };
        Some(Lock { state, since: i64::from_be_bytes(*since), before: before.try_into().ok()? })
    }
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
        let wait = waits(now, cache.next_load, self.lifetimes.longest_wait());
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
            // The last good set, until it can be fetched again, and not for ever.
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
        } else if !waits(now, cache.next_refetch, self.lifetimes.longest_wait()) {
            Ok(Why::Refetch)
        } else {
            drop(cache);
            Err(self.verdict(reason))
        }
    }

    /// Why a token is refused that the keys do not verify, when no more is to be done about it.
    pub(crate) fn verdict(&self, reason: Reason) -> Reason {
        // The server may well have that key: it was asked, and did not say.
        if reason == Reason::KeyUnknown && self.cache().failed { Reason::KeysUnavailable } else { reason }
    }

    /// Whether the set in use was fetched at `time` or later.
    pub(crate) fn fetched_since(&self, time: i64) -> bool {
        self.cache().current.as_ref().is_some_and(|current| current.at >= time)
    }

    /// Whether there are keys that may be used while none can be fetched.
    fn has_any(&self, now: i64) -> bool {
        self.cache().current.as_ref().is_some_and(|current| is_younger(current.at, self.lifetimes.max_stale, now))
    }

    fn name(&self) -> Name {
        self.cache().current.as_ref().map_or_else(Name::default, |current| current.name)
    }

    fn install(&self, body: &[u8], name: Name, at: i64) -> Result<(), String> {
        let digest = jwk::fingerprint(body);
        let mut cache = self.cache();
        if let Some(current) = &mut cache.current
            && current.digest == digest
        {
            (current.at, current.name) = (at, name);
            return Ok(());
        }
        match JwkSet::parse(body) {
            Ok((set, skipped)) => {
                cache.current = Some(Current { set: Arc::new(set), at, name, digest, skipped });
                cache.withdrawn = None;
                self.epoch.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => {
                // The server says what its keys are, and no key of ours is among them: the old ones are withdrawn.
                if matches!(e, JwkSetError::NoUsableKey(_)) {
                    cache.withdrawn = Some(at);
                    if cache.current.take().is_some() {
                        self.epoch.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(e.to_string())
            }
        }
    }

    /// What the set in use leaves out, and why.
    pub(crate) fn skipped(&self) -> Vec<SkippedKey> {
        self.cache().current.as_ref().map(|current| current.skipped.clone()).unwrap_or_default()
    }
}

impl Server {
    /// The keys, which are fetched where there are none that may be used.
    async fn usable_keys(&self, host: &Host) -> Result<Usable, Refusal> {
        match self.keys.usable(host.now()) {
            Ok(usable) => Ok(usable),
            Err(Some(why)) => {
                self.fetch_keys(host, why).await?;
                self.keys.usable(host.now()).map_err(|_| Reason::KeysUnavailable.into())
            }
            Err(None) => Err(Reason::KeysUnavailable.into()),
        }
    }

    /// Verifies something with the keys, which are fetched where that is needed. Of what `verify` says `is_of_keys` are those failures that
    /// other keys may mend.
    pub(crate) async fn verify_with_keys<T, E: From<Reason>>(
        &self,
        host: &Host,
        verify: impl Fn(&JwkSet, i64) -> Result<T, E>,
        is_of_keys: impl Fn(&E) -> Option<Reason>,
    ) -> Result<Result<T, E>, Refusal> {
        let (mut refetched, mut adopted) = (false, false);
        loop {
            let keys = self.usable_keys(host).await?;
            let failure = match verify(&keys.set, host.now()) {
                Err(failure) => failure,
                verified => return Ok(verified),
            };
            let Some(reason) = is_of_keys(&failure).filter(|_| !refetched) else {
                return Ok(Err(failure));
            };
            match self.keys.after(reason, host.now()) {
                // What another worker has may be from before: then it is not fetched yet.
                Ok(why) => refetched = self.fetch_keys(host, why).await? || std::mem::replace(&mut adopted, true),
                Err(reason) => return Ok(Err(reason.into())),
            }
        }
    }

    /// Fetches the keys, or takes them over from another worker: whether they were fetched just now. If that fails the old ones stay, and
    /// it is noted.
    pub(crate) async fn fetch_keys(&self, host: &Host, why: Why) -> Result<bool, Refusal> {
        if self.adopt(host, 0, self.lifetimes.max_age).await {
            return Ok(false);
        }
        let before = self.keys.name();
        if !self.lead(host, why, before).await {
            return Ok(false);
        }
        let outcome = self.download(host).await;
        // The answer to several requests at once is looked at once.
        if self.keys.name() != before {
            return Ok(true);
        }
        let now = host.now();
        let failure = match outcome {
            Ok(body) => {
                let name = random::<16>().ok_or(Reason::InternalError)?;
                match self.keys.install(&body, name, now) {
                    Ok(()) => {
                        // First the set, then that it is there.
                        let value = [&name[..], &body].concat();
                        self.shared.write(host, self.keys_key(), now, &value, self.lifetimes.max_stale).await;
                        self.end(host, why, None).await;
                        return Ok(true);
                    }
                    Err(detail) => Failure { detail, retry: None },
                }
            }
            Err(failure) => failure,
        };
        if self.keys.cache().withdrawn.is_some() {
            // Nobody is to take over what the server has withdrawn.
            self.shared.delete(host, self.keys_key()).await;
        } else if !self.keys.has_any(now) {
            // Those that another worker has are better than none, while they are not too old.
            self.adopt(host, 0, self.lifetimes.max_stale).await;
        }
        self.end(host, why, Some(&failure)).await;
        // With the old keys the request may still be decided; without any it is over.
        match self.keys.usable(host.now()) {
            Ok(_) => Ok(true),
            Err(_) => Err(Refusal::new(Reason::KeysUnavailable, failure.detail)),
        }
    }

    fn keys_key(&self) -> [u8; 32] {
        shared::hash(Domain::Jwks, &[&self.trust, self.jwks_uri.as_deref().unwrap_or_default().as_bytes()])
    }

    fn lock_key(&self, why: Why) -> [u8; 32] {
        let domain = if why == Why::Load { Domain::JwksLoad } else { Domain::JwksRefetch };
        shared::hash(domain, &[&self.keys_key()])
    }

    /// Takes over a set that another worker fetched, if it is another one than ours and not older.
    async fn adopt(&self, host: &Host, delay_ms: u32, max_age: i64) -> bool {
        let Some((at, value)) = self.shared.read_after(host, self.keys_key(), delay_ms).await else {
            return false;
        };
        let Some((name, body)) = value.split_first_chunk::<16>() else {
            return false;
        };
        let newer = {
            let cache = self.keys.cache();
            let own = cache.current.as_ref().map(|current| (current.name, current.at));
            own.is_none_or(|(own, own_at)| own != *name && own_at <= at) && cache.withdrawn.is_none_or(|then| then < at)
        };
        newer && is_younger(at, max_age, host.now()) && self.keys.install(body, *name, at).is_ok()
    }

    /// How long one fetch of the keys can take, in whole seconds.
    fn exchange_s(&self) -> i64 {
        i64::from(self.timeouts.total).div_euclid(1000).saturating_add(1)
    }

    /// Whether it is on this worker to fetch. If another one does, waits for what it fetches.
    async fn lead(&self, host: &Host, why: Why, before: Name) -> bool {
        let (key, now) = (self.lock_key(why), host.now());
        let leads = |cache: &Cache| match (why, cache.leads) {
            (Why::Load, [until, _]) | (Why::Refetch, [_, until]) => waits(now, until, self.exchange_s()),
        };
        if leads(&self.keys.cache()) {
            // Another request of this process began it: the host sees that it is the same fetch.
            return true;
        }
        let ttl = if why == Why::Load { self.exchange_s() } else { self.lifetimes.cool_down };
        let own = Lock { state: LockState::UnderWay, since: now, before }.pack();
        // Without a store, or where it fails: each worker for itself.
        if self.shared.lock(host, key, &own, ttl).await == Some(false) && !leads(&self.keys.cache()) {
            let held = self.shared.locked(host, key).await.as_deref().and_then(Lock::unpack);
            // What is said of another set than ours says nothing of ours.
            if let Some(held) = held.filter(|held| held.before == before) {
                let until = held.since.saturating_add(self.exchange_s());
                if held.state == LockState::UnderWay && waits(now, until, self.exchange_s()) {
                    self.go_on_with_old(why, now);
                    let pause = self.timeouts.total.div_euclid(POLLS).max(MIN_POLL_MS);
                    for _ in 0..self.timeouts.total.div_euclid(pause).max(1) {
                        if self.adopt(host, pause, self.lifetimes.max_age).await || self.keys.name() != before {
                            return false;
                        }
                    }
                } else if held.state != LockState::UnderWay
                    && why == Why::Refetch
                    && waits(now, held.since.saturating_add(self.lifetimes.cool_down), self.lifetimes.cool_down)
                {
                    // It was asked in this cool-down.
                    let mut cache = self.keys.cache();
                    cache.next_refetch = held.since.saturating_add(self.lifetimes.cool_down);
                    cache.failed = held.state == LockState::Failed;
                    return false;
                }
            }
            // Nobody brought anything: whoever was at it is gone.
            self.shared.write_lock(host, key, &own, ttl).await;
        }
        self.begin(why, host.now());
        true
    }

    /// Notes that this worker fetches.
    fn begin(&self, why: Why, now: i64) {
        self.go_on_with_old(why, now);
        let mut cache = self.keys.cache();
        let [load, refetch] = &mut cache.leads;
        *(if why == Why::Load { load } else { refetch }) = now.saturating_add(self.exchange_s());
    }

    /// Who has old keys goes on with them while they are fetched, so that only one request waits.
    fn go_on_with_old(&self, why: Why, now: i64) {
        if why == Why::Load && self.keys.has_any(now) {
            self.keys.cache().next_load = now.saturating_add(self.exchange_s());
        }
    }

    /// Notes how a fetch ended, here and for the other workers.
    async fn end(&self, host: &Host, why: Why, failure: Option<&Failure>) {
        let now = host.now();
        let cool_down = self.lifetimes.cool_down;
        let has_keys = self.keys.has_any(now);
        let led = {
            let mut cache = self.keys.cache();
            cache.failed = failure.is_some();
            let retry = failure.and_then(|failure| failure.retry).unwrap_or_default();
            let [load, refetch] = &mut cache.leads;
            let lead = if why == Why::Load { load } else { refetch };
            let led = std::mem::take(lead) > 0;
            match (why, failure) {
                (Why::Refetch, _) => cache.next_refetch = now.saturating_add(retry.max(cool_down)),
                (Why::Load, None) => cache.next_load = 0,
                (Why::Load, Some(_)) => {
                    cache.next_load = now.saturating_add(retry.max(if has_keys { cool_down } else { RETRY_S }));
                    // What cannot be loaded cannot be refetched either.
                    cache.next_refetch = cache.next_refetch.max(cache.next_load);
                }
            }
            led
        };
        // Of several requests that one fetch served, one tells the others.
        if !led {
            return;
        }
        match why {
            Why::Refetch => {
                let state = if failure.is_some() { LockState::Failed } else { LockState::Ended };
                let ended = Lock { state, since: now, before: self.keys.name() }.pack();
                self.shared.write_lock(host, self.lock_key(why), &ended, cool_down).await;
            }
            Why::Load => {
                self.shared.delete(host, self.lock_key(why)).await;
            }
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
            Some(failure) => {
                self.doubt_metadata(&fetched, host.now());
                Err(Failure { detail: format!("{url}: {}", failure.detail), ..failure })
            }
        }
    }
}
