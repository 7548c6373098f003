//! Nonces for proofs (RFC 9449 §8, §9): the time at which one was made, and a MAC. Whoever has the secret can check it: nothing is kept.

use zeroize::Zeroizing;

use crate::crypto::{self, Secret};
use crate::jose::b64;

/// What the MAC is about, besides the time.
const CONTEXT: &[u8] = b"keybound nonce 1";
/// Octets of the time, of the MAC, and of both.
const TIME: usize = 8;
const MAC: usize = 32;
const LEN: usize = TIME + MAC;
/// As long is that in base64url.
const CHARACTERS: usize = (LEN * 4).div_ceil(3);

/// Makes and checks nonces.
pub(crate) struct Nonces {
    /// The first makes them, all of them check.
    keys: Vec<Secret>,
}

impl Nonces {
    /// With the operator's secrets, the current one first.
    pub(crate) fn new(secrets: &[Zeroizing<String>]) -> Nonces {
        Nonces { keys: secrets.iter().map(|secret| Secret::new(secret.as_bytes())).collect() }
    }

    /// A nonce of `now`, Unix seconds: 54 characters of base64url. `None` without a secret.
    pub(crate) fn make(&self, now: i64) -> Option<String> {
        let time = now.to_be_bytes();
        Some(b64::encode(&[&time[..], &mac(self.keys.first()?, time)].concat()))
    }

    /// When a nonce was made, Unix seconds; `None` if none of the secrets made it.
    pub(crate) fn time(&self, nonce: &str) -> Option<i64> {
        // The decoder may want room for a whole last quantum.
        let mut octets = [0; LEN + 3];
        if nonce.len() != CHARACTERS || b64::decode_into(nonce.as_bytes(), &mut octets)? != LEN {
            return None;
        }
        let (time, rest) = octets.split_first_chunk::<TIME>()?;
        let given = rest.first_chunk::<MAC>()?;
        self.keys.iter().any(|key| crypto::equal(&mac(key, *time), given)).then(|| i64::from_be_bytes(*time))
    }
}

fn mac(key: &Secret, time: [u8; TIME]) -> [u8; MAC] {
    crypto::hmac_sha256(key.expose(), &[CONTEXT, &time].concat())
}
