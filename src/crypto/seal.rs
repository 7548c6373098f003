//! What the library keeps in another's hands: sealed with AES-256-GCM, so that nobody else reads or changes it.

use zeroize::Zeroizing;

use super::backend::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use super::backend::hkdf;
use super::random;

/// Seals and opens under one key.
///
/// Nonces are random: after 2^32 of them a key must be replaced (NIST SP 800-38D §8.3).
pub(crate) struct Sealer(Option<LessSafeKey>);

impl Sealer {
    /// The key is derived from `secret`, anew for each `context`: what was sealed in one does not open in another.
    ///
    /// `secret` must hold all the strength that the key shall have: the derivation does not stretch a password.
    pub(crate) fn new(secret: &[u8], context: &[u8]) -> Sealer {
        // Always there: the length is one that HKDF can give and that the cipher takes. Without a key nothing seals or opens.
        let key = derive(secret, context).and_then(|key| UnboundKey::new(&AES_256_GCM, key.as_ref()).ok());
        Sealer(key.map(LessSafeKey::new))
    }

    /// Nonce, ciphertext and tag. `aad` is not part of it, and must be the same when it is opened.
    pub(crate) fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.as_ref()?;
        let nonce: [u8; NONCE_LEN] = random()?;
        let len = plaintext.len().checked_add(NONCE_LEN)?;
        let mut sealed = Vec::with_capacity(len.checked_add(AES_256_GCM.tag_len())?);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let text = sealed.get_mut(NONCE_LEN..)?;
        let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// The plaintext, if all of `sealed` and `aad` is as it was.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.as_ref()?;
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let len = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut text).ok()?.len();
        text.truncate(len);
        Some(text)
    }
}

/// HKDF-SHA256 without salt (RFC 5869 §2).
fn derive(secret: &[u8], context: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    extracted.expand(&[context], hkdf::HKDF_SHA256).ok()?.fill(key.as_mut()).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[test]
    fn rfc5869_a_3_a_the_key_is_the_one_of_the_rfc() {
        // Without salt and info, the first 32 of 42 octets.
        let key = derive(&[0x0b; 22], b"").expect("key");
        let hex = key.map(|o| format!("{o:02x}")).concat();
        assert_eq!(hex, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
    }

    #[test]
    fn what_is_sealed_opens() {
        let sealer = Sealer::new(SECRET, b"session");
        for text in [&b""[..], b"a", &[0; 4096]] {
            let sealed = sealer.seal(b"aad", text).expect("sealed");
            assert_eq!(sealed.len(), text.len() + 12 + 16);
            assert_eq!(sealer.open(b"aad", &sealed).as_deref(), Some(text));
            assert_eq!(Sealer::new(SECRET, b"session").open(b"aad", &sealed).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_change_of_any_bit_refuses() {
        let sealer = Sealer::new(SECRET, b"session");
        let sealed = sealer.seal(b"aad", b"some text").expect("sealed");
        for i in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[i] ^= 1 << bit;
                assert_eq!(sealer.open(b"aad", &changed), None, "octet {i}, bit {bit}");
            }
            assert_eq!(sealer.open(b"aad", &sealed[..i]), None, "cut at {i}");
        }
        assert_eq!(sealer.open(b"aad", &[&sealed[..], &[0]].concat()), None);
    }

    #[test]
    fn another_aad_context_or_secret_refuses() {
        let sealer = Sealer::new(SECRET, b"session");
        let sealed = sealer.seal(b"aad", b"text").expect("sealed");
        for aad in [&b""[..], b"aa", b"aae", b"aad\0"] {
            assert_eq!(sealer.open(aad, &sealed), None, "{aad:?}");
        }
        for context in [&b""[..], b"sessio", b"sessions"] {
            assert_eq!(Sealer::new(SECRET, context).open(b"aad", &sealed), None, "{context:?}");
        }
        let mut secret = SECRET.to_vec();
        secret[31] ^= 1;
        assert_eq!(Sealer::new(&secret, b"session").open(b"aad", &sealed), None);
    }

    #[test]
    fn two_seals_of_one_plaintext_differ() {
        let sealer = Sealer::new(SECRET, b"session");
        let (a, b) = (sealer.seal(b"", b"text").expect("sealed"), sealer.seal(b"", b"text").expect("sealed"));
        assert_ne!(a[..12], b[..12]);
        assert_ne!(a[12..], b[12..]);
    }
}
