//! The keys of sessions: what a cookie or an entry of the store was sealed for, it opens for alone.

use zeroize::Zeroizing;

use crate::crypto;
use crate::crypto::seal::Sealer;

/// What a sealed cookie or entry is for: authenticated with it, so that what was sealed for one opens for no other.
///
/// Compared octet by octet: a caller that has its host in several spellings settles on one first.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// What is inside
    pub(crate) purpose: Purpose,
    /// The name of the cookie, without the numbers of its parts
    pub(crate) cookie: &'a str,
    /// The host that the cookie is of
    pub(crate) host: &'a str,
    /// Who shares sessions: instances with one key and one audience
    pub(crate) audience: &'a str,
}

/// What is inside of a sealed value. The numbers are part of what is authenticated: a change ends all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A session in a cookie
    Session = 1,
    /// A login that is under way, in a cookie
    Login = 2,
    /// A session in the store
    Stored = 3,
}

impl Place<'_> {
    /// Each text with its length: no two places are one sequence of octets.
    fn encoded(&self) -> Vec<u8> {
        let mut out = vec![self.purpose as u8];
        for text in [self.cookie, self.host, self.audience] {
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }
}

/// The operator's secrets: the first seals and all of them open, so that one can follow another without ending the sessions of before.
pub(crate) struct Keyring(Vec<Sealer>);

/// What was in a sealed value.
pub(crate) struct Opened {
    /// What was sealed
    pub(crate) plaintext: Zeroizing<Vec<u8>>,
    /// Whether the first secret sealed it; else it should be sealed anew.
    pub(crate) current: bool,
}

impl Keyring {
    /// Without secrets nothing seals or opens.
    pub(crate) fn new(secrets: &[Zeroizing<String>]) -> Keyring {
        Keyring(secrets.iter().map(|secret| Sealer::new(secret.as_bytes(), b"keybound session 1")).collect())
    }

    /// Seals by the first secret; `None` if there is none, or no randomness.
    pub(crate) fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Option<Vec<u8>> {
        self.0.first()?.seal(&place.encoded(), plaintext)
    }

    /// Opens what any of the secrets sealed for this very place.
    pub(crate) fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Option<Opened> {
        let aad = place.encoded();
        self.0.iter().enumerate().find_map(|(i, sealer)| {
            let plaintext = Zeroizing::new(sealer.open(&aad, sealed)?);
            Some(Opened { plaintext, current: i == 0 })
        })
    }

    /// What the store knows a session by: it tells neither the id nor what it is for, and two places never share one.
    pub(crate) fn name(place: &Place<'_>, id: &[u8; 32]) -> [u8; 32] {
        crypto::hmac_sha256(id, &[b"keybound session name 1", place.encoded().as_slice()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "0123456789abcdef0123456789abcdeF";
    const HERE: Place<'static> =
        Place { purpose: Purpose::Session, cookie: "__Host-s", host: "api.test", audience: "shop" };

    fn keyring(secrets: &[&str]) -> Keyring {
        Keyring::new(&secrets.iter().map(|s| Zeroizing::new((*s).to_owned())).collect::<Vec<_>>())
    }

    fn open(keyring: &Keyring, place: &Place<'_>, sealed: &[u8]) -> Option<(Vec<u8>, bool)> {
        keyring.open(place, sealed).map(|opened| (opened.plaintext.to_vec(), opened.current))
    }

    /// Every place that differs from [`HERE`] in one thing, or only in where one text ends and the next begins.
    fn elsewhere() -> Vec<Place<'static>> {
        vec![
            Place { purpose: Purpose::Login, ..HERE },
            Place { purpose: Purpose::Stored, ..HERE },
            Place { cookie: "__Host-t", ..HERE },
            Place { cookie: "__Host-s_2", ..HERE },
            Place { cookie: "__Host-", ..HERE },
            Place { cookie: "", ..HERE },
            Place { host: "app.test", ..HERE },
            Place { host: "API.test", ..HERE },
            Place { host: "api.test.", ..HERE },
            Place { host: "api.test:443", ..HERE },
            Place { host: "api.test\0", ..HERE },
            Place { host: "", ..HERE },
            Place { audience: "shop2", ..HERE },
            Place { audience: "sho", ..HERE },
            Place { audience: "", ..HERE },
            Place { cookie: "__Host-sa", host: "pi.test", ..HERE },
            Place { cookie: "__Host-", host: "sapi.test", ..HERE },
            Place { host: "api.tests", audience: "hop", ..HERE },
            Place { host: "shop", audience: "api.test", ..HERE },
        ]
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_and_in_no_other() {
        let keyring = keyring(&[NEW]);
        let sealed = keyring.seal(&HERE, b"text").expect("sealed");
        assert_eq!(open(&keyring, &HERE, &sealed), Some((b"text".to_vec(), true)));
        for (i, place) in elsewhere().iter().enumerate() {
            assert_eq!(open(&keyring, place, &sealed), None, "{i}");
            let theirs = keyring.seal(place, b"text").expect("sealed");
            assert!(open(&keyring, place, &theirs).is_some(), "{i}");
            assert_eq!(open(&keyring, &HERE, &theirs), None, "{i}");
        }
    }

    #[test]
    fn an_old_secret_opens_until_it_is_removed() {
        let sealed = keyring(&[OLD]).seal(&HERE, b"text").expect("sealed");
        assert_eq!(open(&keyring(&[OLD]), &HERE, &sealed), Some((b"text".to_vec(), true)));
        assert_eq!(open(&keyring(&[NEW, OLD]), &HERE, &sealed), Some((b"text".to_vec(), false)));
        assert_eq!(open(&keyring(&[NEW]), &HERE, &sealed), None);
        assert_eq!(open(&keyring(&[]), &HERE, &sealed), None);
    }

    #[test]
    fn the_first_secret_seals() {
        let sealed = keyring(&[NEW, OLD]).seal(&HERE, b"text").expect("sealed");
        assert_eq!(open(&keyring(&[NEW]), &HERE, &sealed), Some((b"text".to_vec(), true)));
        assert_eq!(open(&keyring(&[OLD]), &HERE, &sealed), None);
        assert_eq!(keyring(&[]).seal(&HERE, b"text"), None);
    }

    #[test]
    fn a_change_of_any_byte_and_a_cut_anywhere_refuse() {
        let keyring = keyring(&[NEW, OLD]);
        let sealed = keyring.seal(&HERE, b"some text").expect("sealed");
        assert!(open(&keyring, &HERE, &sealed).is_some());
        for i in 0..sealed.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = sealed.clone();
                changed[i] ^= change;
                assert_eq!(open(&keyring, &HERE, &changed), None, "byte {i}");
            }
            assert_eq!(open(&keyring, &HERE, &sealed[..i]), None, "cut at {i}");
            assert_eq!(open(&keyring, &HERE, &sealed[sealed.len() - i..]), None, "the last {i}");
        }
        assert_eq!(open(&keyring, &HERE, &[&sealed[..], b"\0"].concat()), None);
    }

    #[test]
    fn a_name_belongs_to_one_place_and_one_id_and_tells_neither() {
        let id: [u8; 32] = std::array::from_fn(|i| i as u8);
        let name = Keyring::name(&HERE, &id);
        assert_eq!(name, Keyring::name(&HERE, &id));
        assert_ne!(name, id);
        let mut seen = vec![name];
        for place in elsewhere() {
            let other = Keyring::name(&place, &id);
            assert!(!seen.contains(&other));
            seen.push(other);
        }
        for i in 0..id.len() {
            let mut other = id;
            other[i] ^= 1;
            assert_ne!(Keyring::name(&HERE, &other), name, "byte {i}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_two_places_are_one_sequence_of_octets(a in "[ab\0\u{8}]{0,9}", cuts in prop::array::uniform4(0..10usize)) {
            // The same text cut in two ways: what a plain concatenation would confuse.
            let place = |one: usize, two: usize| {
                let (one, two) = (one.min(two).min(a.len()), one.max(two).min(a.len()));
                Place { purpose: Purpose::Session, cookie: &a[..one], host: &a[one..two], audience: &a[two..] }
            };
            let (x, y) = (place(cuts[0], cuts[1]), place(cuts[2], cuts[3]));
            let same = (x.cookie, x.host, x.audience) == (y.cookie, y.host, y.audience);
            prop_assert_eq!(x.encoded() == y.encoded(), same);
        }

        #[test]
        fn whatever_was_not_sealed_does_not_open(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(keyring(&[NEW, OLD]).open(&HERE, &bytes).is_none());
        }
    }
}
