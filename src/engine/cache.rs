//! What an engine remembers: verified tokens and thumbprints. Facts only, compared in full, bounded in entries and in bytes.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::cert::Identity;
use crate::reason::Reason;
use crate::session::{Session, Tokens};
use crate::token::Facts;

/// Entries of one set: a token can be in any of its set's places.
const WAYS: usize = 8;
/// Certificates that an engine remembers for hosts that hand over bytes with every request.
const IDENTITIES: usize = 128;

pub(crate) struct Memory {
    pub(crate) tokens: TokenCache<Known>,
    /// Tokens that an authorization server or the rules refused a moment ago: apart, so that a flood of them displaces no good one.
    pub(crate) refused: TokenCache<Refused>,
    pub(crate) identities: IdentityMemo,
    /// Tokens that were fetched for credentials, by a hash of these.
    pub(crate) grants: TokenCache<Grant>,
}

/// Tokens that are remembered as refused, and the memory for them.
const REFUSED_ENTRIES: usize = 1024;
const REFUSED_BYTES: usize = 512 * 1024;

/// Grants that are remembered, and the memory for them.
const GRANT_ENTRIES: usize = 1024;
const GRANT_BYTES: usize = 4 * 1024 * 1024;

impl Memory {
    pub(crate) fn new(entries: usize, bytes: usize) -> Memory {
        Memory {
            tokens: TokenCache::new(entries, bytes),
            refused: TokenCache::new(REFUSED_ENTRIES, REFUSED_BYTES),
            identities: IdentityMemo::default(),
            grants: TokenCache::new(GRANT_ENTRIES, GRANT_BYTES),
        }
    }
}

/// What is known of a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) facts: Facts,
    /// When it was learnt, and when it is looked at anew, Unix seconds.
    pub(crate) since: i64,
    pub(crate) fresh_until: i64,
    /// It was verified because the gateway holds it itself: of a client it would have been introspected.
    pub(crate) is_own: bool,
    /// The issuer's place, and the epoch of its keys.
    pub(crate) issuer: u32,
    pub(crate) epoch: u32,
    /// The claims of a token that does not hold them itself.
    pub(crate) claims: Option<Box<[u8]>>,
}

/// Why a token is no good, and until when that is not asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) since: i64,
    pub(crate) until: i64,
}

/// The tokens that were fetched for credentials.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) session: Arc<Session>,
    /// When they are fetched anew, Unix seconds.
    pub(crate) until: i64,
}

impl Grant {
    /// Given out until `margin` seconds before its end, or two thirds of its life; for `unknown` seconds where nobody says how long it lives.
    pub(crate) fn new(session: Session, margin: i64, unknown: i64) -> Grant {
        let Tokens { obtained, expires, .. } = &session.tokens;
        let life = expires.map_or(unknown, |end| end.saturating_sub(*obtained)).max(0);
        let until = obtained.saturating_add(life).saturating_sub(margin.min(life.div_euclid(3)));
        Grant { session: Arc::new(session), until }
    }

    pub(crate) fn is_fresh(&self, now: i64) -> bool {
        // Before it was fetched: the clock was set back.
        now < self.until && now >= self.session.tokens.obtained.saturating_sub(60)
    }
}

/// What can be remembered of a token.
pub(crate) trait Value {
    /// When it is of no more use, Unix seconds.
    fn ends(&self) -> i64;
    /// What it takes on the heap.
    fn heap(&self) -> usize;
}

impl Value for Known {
    fn ends(&self) -> i64 {
        self.facts.expires.min(self.fresh_until)
    }

    fn heap(&self) -> usize {
        self.claims.as_ref().map_or(0, |claims| claims.len().saturating_add(MALLOC_OVERHEAD))
    }
}

impl Value for Grant {
    fn ends(&self) -> i64 {
        self.until
    }

    fn heap(&self) -> usize {
        let text = |text: &Option<Zeroizing<String>>| text.as_ref().map_or(0, |text| text.len());
        let Tokens { access_token, refresh_token, id_token, .. } = &self.session.tokens;
        let texts = access_token.len().saturating_add(text(refresh_token)).saturating_add(text(id_token));
        texts.saturating_add(size_of::<Session>()).saturating_add(4 * MALLOC_OVERHEAD)
    }
}

impl Value for Refused {
    fn ends(&self) -> i64 {
        self.until
    }

    fn heap(&self) -> usize {
        0
    }
}

/// A set-associative table of whole tokens. The place comes from the token's last characters: of a signature, which only the issuer chooses.
pub(crate) struct TokenCache<V> {
    sets: Box<[Set<V>]>,
    bytes: usize,
    max_bytes: usize,
    /// Counts uses, to find the entry that was used longest ago.
    clock: u64,
    /// Where the next eviction for want of bytes begins.
    hand: usize,
}

/// What chooses a place is beside the tags: a look at each entry would wait for memory eight times.
struct Set<V> {
    tags: [u32; WAYS],
    used: [u64; WAYS],
    ends: [i64; WAYS],
    entries: [Option<Box<Entry<V>>>; WAYS],
}

struct Entry<V> {
    token: Box<[u8]>,
    value: V,
}

impl<V: Value> Entry<V> {
    /// What it takes besides its set, as the allocator sees it.
    fn bytes(token: &[u8], value: &V) -> usize {
        let own = size_of::<Entry<V>>().saturating_add(2 * MALLOC_OVERHEAD);
        token.len().saturating_add(own).saturating_add(value.heap())
    }
}

/// glibc's header of a block, rounded.
const MALLOC_OVERHEAD: usize = 16;

impl<V: Value> TokenCache<V> {
    fn new(entries: usize, max_bytes: usize) -> TokenCache<V> {
        let sets = match entries {
            0 => 0,
            n => n.div_ceil(WAYS).next_power_of_two(),
        };
        let empty = || Set { tags: [0; WAYS], used: [0; WAYS], ends: [0; WAYS], entries: Default::default() };
        TokenCache { sets: std::iter::repeat_with(empty).take(sets).collect(), bytes: 0, max_bytes, clock: 0, hand: 0 }
    }

    /// What is remembered of a token that is equal to `token` in every byte.
    pub(crate) fn get(&mut self, token: &[u8]) -> Option<&V> {
        let (set, tag) = self.place(token)?;
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let Set { tags, used, entries, .. } = self.sets.get_mut(set)?;
        for ((own, entry), used) in tags.iter().zip(entries).zip(used) {
            if *own == tag
                && let Some(entry) = entry
                && *entry.token == *token
            {
                *used = clock;
                return Some(&entry.value);
            }
        }
        None
    }

    /// Remembers a token, in place of itself, or of one that is over at `now`, or was used longest ago.
    pub(crate) fn insert(&mut self, token: &[u8], value: V, now: i64) {
        let Some((set, tag)) = self.place(token) else {
            return;
        };
        let bytes = Entry::bytes(token, &value);
        if bytes > self.max_bytes {
            return;
        }
        while self.bytes.saturating_add(bytes) > self.max_bytes {
            self.evict_one_set();
        }
        let Some(Set { tags, used, ends, entries }) = self.sets.get_mut(set) else {
            return;
        };
        let places = tags.iter_mut().zip(used).zip(ends).zip(entries);
        let victim = places.min_by_key(|(((own, used), ends), entry)| match entry {
            Some(entry) if **own == tag && *entry.token == *token => 0,
            None => 1,
            Some(_) if now >= **ends => 2,
            Some(_) => used.saturating_add(3),
        });
        if let Some((((own, used), ends), entry)) = victim {
            let freed = entry.as_ref().map_or(0, |old| Entry::bytes(&old.token, &old.value));
            (*own, *used, *ends) = (tag, self.clock, value.ends());
            *entry = Some(Box::new(Entry { token: token.into(), value }));
            self.bytes = self.bytes.saturating_sub(freed).saturating_add(bytes);
        }
    }

    /// Forgets a token.
    pub(crate) fn remove(&mut self, token: &[u8]) {
        let Some((set, tag)) = self.place(token) else {
            return;
        };
        let Some(Set { tags, entries, .. }) = self.sets.get_mut(set) else {
            return;
        };
        for (own, place) in tags.iter().zip(entries) {
            if *own == tag
                && let Some(entry) = place.take_if(|entry| *entry.token == *token)
            {
                self.bytes = self.bytes.saturating_sub(Entry::bytes(&entry.token, &entry.value));
            }
        }
    }

    fn evict_one_set(&mut self) {
        if let Some(set) = self.sets.get_mut(self.hand) {
            for entry in set.entries.iter_mut().filter_map(Option::take) {
                self.bytes = self.bytes.saturating_sub(Entry::bytes(&entry.token, &entry.value));
            }
            self.hand = self.hand.saturating_add(1);
        } else {
            self.hand = 0;
        }
    }

    /// Set and tag of a token; `None` where nothing is remembered.
    fn place(&self, token: &[u8]) -> Option<(usize, u32)> {
        let mask = self.sets.len().checked_sub(1)?;
        let hash = mix(token);
        Some(((hash >> 32) as usize & mask, hash as u32))
    }
}

/// A hash of octets near the end, where signatures differ.
fn mix(input: &[u8]) -> u64 {
    let word = match input.last_chunk::<16>() {
        Some(tail) => u128::from_le_bytes(*tail),
        None => input.iter().fold(0, |acc: u128, c| (acc << 8) | u128::from(*c)),
    };
    let word = (word as u64) ^ ((word >> 64) as u64).rotate_left(29);
    // Fibonacci hashing: the odd constant spreads what differs over the upper half.
    let product = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// Certificates by their exact input bytes, one place each.
#[derive(Default)]
pub(crate) struct IdentityMemo(Vec<Option<(Box<[u8]>, Identity)>>);

impl IdentityMemo {
    fn place(input: &[u8]) -> usize {
        // PEM ends with a line that all have; what differs lies before it.
        let tail = input.len().saturating_sub(48);
        (mix(input.get(..tail).unwrap_or_default()) >> 32) as usize % IDENTITIES
    }

    pub(crate) fn get(&self, input: &[u8]) -> Option<Identity> {
        let (own, identity) = self.0.get(Self::place(input))?.as_ref()?;
        (**own == *input).then_some(*identity)
    }

    pub(crate) fn insert(&mut self, input: &[u8], identity: Identity) {
        if self.0.is_empty() {
            self.0.resize_with(IDENTITIES, || None);
        }
        if let Some(place) = self.0.get_mut(Self::place(input)) {
            *place = Some((input.into(), identity));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Confirmation;

    fn known(expires: i64) -> Known {
        let facts = Facts { expires, not_before: None, issued: None, confirmation: Confirmation::Unbound };
        Known { facts, since: 0, fresh_until: i64::MAX, is_own: false, issuer: 0, epoch: 0, claims: None }
    }

    fn weight(token: &[u8]) -> usize {
        Entry::bytes(token, &known(0))
    }

    fn token(i: usize) -> Vec<u8> {
        format!("{}{:016x}", "t".repeat(100), (i as u64).wrapping_mul(0x2545_f491_4f6c_dd1d)).into_bytes()
    }

    #[test]
    fn a_token_is_found_only_by_all_its_bytes() {
        let mut cache = TokenCache::new(16, 1 << 20);
        let own = token(1);
        cache.insert(&own, known(100), 0);
        assert_eq!(cache.get(&own), Some(&known(100)));
        for i in 0..own.len() {
            let mut other = own.clone();
            other[i] ^= 1;
            assert_eq!(cache.get(&other), None, "byte {i}");
        }
        assert_eq!(cache.get(&own[1..]), None);
        assert_eq!(cache.get(&[&own[..], b"="].concat()), None);
        assert_eq!(cache.get(b""), None);
    }

    #[test]
    fn entries_are_bounded_and_zero_remembers_nothing() {
        let mut cache = TokenCache::new(64, 1 << 20);
        for i in 0..1000 {
            cache.insert(&token(i), known(100), 0);
        }
        let held = cache.sets.iter().flat_map(|s| &s.entries).flatten().count();
        assert!(held <= 64 && held > 48, "{held}");
        assert_eq!(cache.bytes, held * weight(&token(0)));
        let mut none = TokenCache::new(0, 1 << 20);
        none.insert(&token(1), known(100), 0);
        assert_eq!(none.get(&token(1)), None);
    }

    #[test]
    fn bytes_are_bounded() {
        let one = weight(&token(0));
        let mut cache = TokenCache::new(4096, 10 * one);
        for i in 0..1000 {
            cache.insert(&token(i), known(100), 0);
            assert!(cache.bytes <= 10 * one);
            assert_eq!(cache.get(&token(i)), Some(&known(100)));
        }
        let held = cache.sets.iter().flat_map(|s| &s.entries).flatten().count();
        assert_eq!(cache.bytes, held * one);
        cache.insert(&vec![b'x'; 11 * one], known(100), 0);
        assert_eq!(cache.get(&vec![b'x'; 11 * one]), None);
    }

    #[test]
    fn an_expired_entry_goes_first_then_the_one_used_longest_ago() {
        let mut cache = TokenCache::new(WAYS, 1 << 20);
        for i in 0..WAYS {
            cache.insert(&token(i), known(if i == 3 { 50 } else { 100 }), 0);
        }
        for i in 0..WAYS {
            assert!(cache.get(&token(i)).is_some());
        }
        cache.insert(&token(100), known(100), 50);
        assert_eq!(cache.get(&token(3)), None);
        cache.insert(&token(101), known(100), 50);
        assert_eq!(cache.get(&token(0)), None);
        assert!(cache.get(&token(1)).is_some());
    }

    #[test]
    fn a_token_is_remembered_once_and_its_claims_weigh() {
        let mut cache = TokenCache::new(WAYS, 1 << 20);
        for n in [10, 1000, 20] {
            cache.insert(&token(1), Known { claims: Some(vec![b'c'; n].into()), ..known(100) }, 0);
            assert_eq!(cache.bytes, weight(&token(1)) + n + MALLOC_OVERHEAD);
        }
        assert_eq!(cache.sets.iter().flat_map(|s| &s.entries).flatten().count(), 1);
        cache.remove(&token(2));
        assert!(cache.get(&token(1)).is_some());
        cache.remove(&token(1));
        assert_eq!(cache.get(&token(1)), None);
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn a_certificate_is_found_only_by_all_its_bytes() {
        let mut memo = IdentityMemo::default();
        let der: Vec<u8> = (0..200).collect();
        let identity = Identity::of_der(&der, false);
        assert_eq!(memo.get(&der), None);
        memo.insert(&der, identity);
        assert_eq!(memo.get(&der), Some(identity));
        for i in 0..der.len() {
            let mut other = der.clone();
            other[i] ^= 1;
            assert_eq!(memo.get(&other), None, "octet {i}");
        }
    }
}
