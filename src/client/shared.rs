//! What workers and nodes share: sealed, so that who can read or write the store learns nothing and forges nothing.

use zeroize::{Zeroize as _, Zeroizing};

use crate::binding::dpop::Use;
use crate::crypto::seal::Sealer;
use crate::crypto::{self, MacKey, Secret};
use crate::steps::{Host, Store, StoreOperation, Stored};

/// What a key of the store, or a flight, is about: two kinds never share a key.
#[derive(Clone, Copy)]
pub(crate) enum Domain {
    Document,
    Metadata,
    Jwks,
    JwksLoad,
    JwksRefetch,
    Introspection,
    Call,
    Session,
    SessionEnd,
    Login,
    Code,
    Refresh,
    RefreshLock,
    Grant,
    Proof,
    Request,
}

/// A hash of parts, each with its length: no two lists of parts are one input.
pub(crate) fn hash(domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
    const NAME: &[u8] = b"keybound 1 ";
    let len =
        parts.iter().fold(NAME.len().saturating_add(1), |len, part| len.saturating_add(8).saturating_add(part.len()));
    let mut input = Vec::with_capacity(len);
    input.extend_from_slice(NAME);
    input.push(domain as u8);
    for part in parts {
        input.extend_from_slice(&(part.len() as u64).to_be_bytes());
        input.extend_from_slice(part);
    }
    let hash = crypto::sha256(&input);
    // It may have held a token.
    input.zeroize();
    hash
}

/// For how long the store has to keep a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// For all its time: nobody could tell it anew.
    Always,
    /// It can be fetched anew.
    IfThereIsRoom,
}

/// The store, if there is one.
pub(crate) struct Shared(Option<Secrets>);

/// `store_secret`
struct Secrets {
    secret: Secret,
    /// The same
    mac: MacKey,
}

impl Shared {
    /// With the operator's `store_secret`; without it nothing is shared.
    pub(crate) fn new(secret: Option<String>) -> Shared {
        let secret = secret.map(Zeroizing::new);
        Shared(secret.map(|s| Secrets { secret: Secret::new(s.as_bytes()), mac: MacKey::new(s.as_bytes()) }))
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// The key under which the store has it: of those with this secret, and telling nobody else what it is about.
    fn key(&self, key: [u8; 32]) -> [u8; 32] {
        self.0.as_ref().map_or(key, |secrets| secrets.mac.mac(&key))
    }

    async fn get(&self, host: &Host, key: [u8; 32], delay_ms: u32) -> Option<Vec<u8>> {
        match self.fetch(host, key, delay_ms).await {
            Stored::Found(value) => Some(value),
            _ => None,
        }
    }

    /// False if the store failed.
    async fn put(&self, host: &Host, key: [u8; 32], value: Option<Vec<u8>>, ttl: i64, keep: Keep) -> bool {
        // A lifetime of 0 would be one without end in some stores.
        if let (Some(value), Some(ttl)) = (value, u32::try_from(ttl).ok().filter(|ttl| *ttl > 0)) {
            let (operation, key, is_cache) = (StoreOperation::Put, self.key(key), keep == Keep::IfThereIsRoom);
            return host.store(Store { operation, key, value, ttl, delay_ms: 0, is_cache }).await == Stored::Done;
        }
        false
    }

    fn sealer(&self) -> Option<Sealer> {
        self.0.as_ref().map(|secrets| Sealer::new(secrets.secret.expose(), b"keybound store 1"))
    }

    /// A sealer of what only who holds `token` may read.
    fn token_sealer(&self, token: &[u8]) -> Option<Sealer> {
        self.0.as_ref().map(|secrets| Sealer::new(&secrets.mac.mac(token), b"keybound token 1"))
    }

    /// A value, and when it was fetched.
    pub(crate) async fn read(&self, host: &Host, key: [u8; 32]) -> Option<(i64, Vec<u8>)> {
        self.read_after(host, key, 0).await
    }

    pub(crate) async fn read_after(&self, host: &Host, key: [u8; 32], delay_ms: u32) -> Option<(i64, Vec<u8>)> {
        let sealer = self.sealer()?;
        unpack(&sealer, &key, self.get(host, key, delay_ms).await?)
    }

    pub(crate) async fn write(&self, host: &Host, key: [u8; 32], at: i64, value: &[u8], ttl: i64) {
        if let Some(sealer) = self.sealer() {
            self.put(host, key, pack(&sealer, &key, at, value), ttl, Keep::IfThereIsRoom).await;
        }
    }

    /// Likewise for what was learnt of a token.
    pub(crate) async fn read_of(&self, host: &Host, token: &[u8], key: [u8; 32]) -> Option<(i64, Vec<u8>)> {
        self.read_of_after(host, token, key, 0).await
    }

    pub(crate) async fn read_of_after(
        &self,
        host: &Host,
        token: &[u8],
        key: [u8; 32],
        delay_ms: u32,
    ) -> Option<(i64, Vec<u8>)> {
        let sealer = self.token_sealer(token)?;
        unpack(&sealer, &key, self.get(host, key, delay_ms).await?)
    }

    /// What is there, sealed by somebody else; and whether the store failed.
    pub(crate) async fn fetch(&self, host: &Host, key: [u8; 32], delay_ms: u32) -> Stored {
        self.look(host, self.key(key), delay_ms).await
    }

    async fn look(&self, host: &Host, key: [u8; 32], delay_ms: u32) -> Stored {
        let (operation, value) = (StoreOperation::Get, Vec::new());
        let get = Store { operation, key, value, ttl: 1, delay_ms, is_cache: false };
        if self.is_there() { host.store(get).await } else { Stored::Failed }
    }

    /// Writes what somebody else sealed; false if the store failed.
    pub(crate) async fn keep(&self, host: &Host, key: [u8; 32], value: Vec<u8>, ttl: u32) -> bool {
        self.is_there() && self.put(host, key, Some(value), i64::from(ttl.max(1)), Keep::Always).await
    }

    /// False if it is not there now.
    pub(crate) async fn write_of(
        &self,
        host: &Host,
        token: &[u8],
        key: [u8; 32],
        at: i64,
        value: &[u8],
        (ttl, keep): (i64, Keep),
    ) -> bool {
        match self.token_sealer(token) {
            Some(sealer) => self.put(host, key, pack(&sealer, &key, at, value), ttl, keep).await,
            None => false,
        }
    }

    /// Atomically inserts a lock. `None` without a store, or where it fails.
    pub(crate) async fn lock(&self, host: &Host, key: [u8; 32], value: &[u8], ttl: i64) -> Option<bool> {
        self.add(host, self.key(key), value, ttl).await
    }

    async fn add(&self, host: &Host, key: [u8; 32], value: &[u8], ttl: i64) -> Option<bool> {
        if !self.is_there() {
            return None;
        }
        let ttl = u32::try_from(ttl.max(1)).unwrap_or(u32::MAX);
        let (operation, value) = (StoreOperation::Add, value.to_vec());
        match host.store(Store { operation, key, value, ttl, delay_ms: 0, is_cache: false }).await {
            Stored::Done => Some(true),
            Stored::Exists => Some(false),
            _ => None,
        }
    }

    /// Under which key the store has the use of a proof: what it is known by among all with this store.
    pub(crate) fn name_of_proof(&self, name: &[&[u8]]) -> [u8; 32] {
        self.key(hash(Domain::Proof, name))
    }

    /// Atomically notes the use of a proof, by [`Shared::name_of_proof`], by a request, which may use it again.
    pub(crate) async fn spend(&self, host: &Host, name: [u8; 32], request: &[u8], ttl: i64) -> Use {
        let mark = hash(Domain::Request, &[request]);
        let (mark, _) = mark.split_at(16);
        match self.add(host, name, mark, ttl).await {
            Some(true) => Use::First,
            Some(false) if request.is_empty() => Use::Again,
            // Internally redirected, a request is decided about anew.
            Some(false) => match self.look(host, name, 0).await {
                Stored::Found(other) if other == mark => Use::First,
                Stored::Found(_) => Use::Again,
                _ => Use::Unknown,
            },
            None => Use::Unknown,
        }
    }

    /// Writes a lock, whoever had it before.
    pub(crate) async fn write_lock(&self, host: &Host, key: [u8; 32], value: &[u8], ttl: i64) {
        if self.is_there() {
            self.put(host, key, Some(value.to_vec()), ttl.max(1), Keep::Always).await;
        }
    }

    /// What a lock was written with.
    pub(crate) async fn locked(&self, host: &Host, key: [u8; 32]) -> Option<Vec<u8>> {
        self.get(host, key, 0).await
    }

    /// Deletes a value or a lock; false if the store failed.
    pub(crate) async fn delete(&self, host: &Host, key: [u8; 32]) -> bool {
        if self.is_there() {
            let (operation, key, value) = (StoreOperation::Delete, self.key(key), Vec::new());
            let delete = Store { operation, key, value, ttl: 1, delay_ms: 0, is_cache: false };
            return host.store(delete).await == Stored::Done;
        }
        false
    }
}

/// The time in front, so that who reads knows how old it is whatever the store's own clock says; the key is authenticated with it, so
/// that a value cannot be put under another key.
fn pack(sealer: &Sealer, key: &[u8; 32], at: i64, value: &[u8]) -> Option<Vec<u8>> {
    sealer.seal(key, &[&at.to_be_bytes()[..], value].concat())
}

fn unpack(sealer: &Sealer, key: &[u8; 32], sealed: Vec<u8>) -> Option<(i64, Vec<u8>)> {
    let mut plain = sealer.open(key, &sealed)?;
    let at = i64::from_be_bytes(*plain.first_chunk()?);
    plain.drain(..size_of::<i64>());
    Some((at, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7662_4_d_no_two_lists_of_parts_share_a_key() {
        let lists: [&[&[u8]]; 6] = [&[], &[b""], &[b"", b""], &[b"ab"], &[b"a", b"b"], &[b"a", b"", b"b"]];
        let mut seen = Vec::new();
        for domain in [Domain::Metadata, Domain::Jwks, Domain::Introspection] {
            for parts in lists {
                let key = hash(domain, parts);
                assert!(!seen.contains(&key), "{parts:?}");
                seen.push(key);
            }
        }
    }

    #[test]
    fn a_sealed_value_opens_under_its_own_key_secret_and_token_only() {
        let shared = |secret: &str| Shared::new(Some(secret.into()));
        let sealer = shared("a").token_sealer(b"token").expect("a store");
        let sealed = pack(&sealer, &[1; 32], 7, b"claims").expect("sealed");
        assert!(!sealed.windows(6).any(|w| w == b"claims"));
        assert_eq!(unpack(&sealer, &[1; 32], sealed.clone()), Some((7, b"claims".to_vec())));
        assert_eq!(unpack(&sealer, &[2; 32], sealed.clone()), None);
        for other in [shared("b").token_sealer(b"token"), shared("a").token_sealer(b"other"), shared("a").sealer()] {
            assert_eq!(unpack(&other.expect("a store"), &[1; 32], sealed.clone()), None);
        }
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(unpack(&sealer, &[1; 32], changed), None);
            assert_eq!(unpack(&sealer, &[1; 32], sealed[..i].to_vec()), None);
        }
    }
}
