//! Nonces for proofs (RFC 9449 §8, §9): the time at which one was made, and a MAC. Whoever has the secret can check it: nothing is kept.

use zeroize::Zeroizing;

use crate::crypto::{self, MacKey};
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
    keys: Vec<MacKey>,
}

impl Nonces {
    /// With the operator's secrets, the current one first.
    pub(crate) fn new(secrets: &[Zeroizing<String>]) -> Nonces {
        Nonces { keys: secrets.iter().map(|secret| MacKey::new(secret.as_bytes())).collect() }
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

fn mac(key: &MacKey, time: [u8; TIME]) -> [u8; MAC] {
    key.mac(&[CONTEXT, &time].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn nonces(secrets: &[&str]) -> Nonces {
        let secrets: Vec<_> = secrets.iter().map(|secret| Zeroizing::new((*secret).to_owned())).collect();
        Nonces::new(&secrets)
    }

    #[test]
    fn rfc9449_8_a_a_nonce_tells_its_time_to_whoever_has_the_secret() {
        let nonces = nonces(&["a"]);
        for time in [NOW, 0, 1, -1, i64::MIN, i64::MAX] {
            let nonce = nonces.make(time).expect("a secret");
            assert_eq!(nonces.time(&nonce), Some(time));
            assert_eq!(self::nonces(&["b"]).time(&nonce), None);
            assert_eq!(self::nonces(&["b", "a"]).time(&nonce), Some(time));
            assert_eq!(self::nonces(&["a", "b"]).time(&nonce), Some(time));
        }
    }

    #[test]
    fn the_first_secret_makes_nonces_and_without_any_there_are_none() {
        let nonce = nonces(&["new", "old"]).make(NOW).expect("a secret");
        assert_eq!(nonces(&["new"]).time(&nonce), Some(NOW));
        assert_eq!(nonces(&["old"]).time(&nonce), None);
        assert_eq!(nonces(&[]).make(NOW), None);
        assert_eq!(nonces(&[]).time(&nonce), None);
    }

    #[test]
    fn the_mac_is_hmac_of_the_context_and_the_time_and_nothing_less() {
        let nonce = nonces(&["secret"]).make(NOW).expect("a secret");
        let octets = b64::decode(nonce.as_bytes()).expect("base64url");
        let (time, mac) = octets.split_at(TIME);
        assert_eq!(time, NOW.to_be_bytes());
        assert_eq!(mac, crypto::hmac_sha256(b"secret", &[b"keybound nonce 1", time].concat()));
        // A MAC of the same secret about something else.
        for input in [time.to_vec(), [b"keybound store 1", time].concat()] {
            let other = b64::encode(&[time, &crypto::hmac_sha256(b"secret", &input)].concat());
            assert_eq!(nonces(&["secret"]).time(&other), None);
        }
    }

    #[test]
    fn rfc9449_8_1_a_a_nonce_of_another_length_or_form_is_none() {
        let nonces = nonces(&["a"]);
        let nonce = nonces.make(NOW).expect("a secret");
        assert_eq!(nonce.len(), CHARACTERS);
        for bad in [
            "",
            "=",
            &nonce[1..],
            &nonce[..53],
            &format!("{nonce}="),
            &format!("{nonce}A"),
            &format!("={}", &nonce[1..]),
        ] {
            assert_eq!(nonces.time(bad), None, "{bad}");
        }
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(nonces.time(std::str::from_utf8(&changed).expect("ASCII")), None, "{at}");
        }
    }
}
