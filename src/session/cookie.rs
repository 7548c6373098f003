//! Cookies: what a request has (RFC 6265 §4.2.1, §5.4), and what a browser is told to keep (§4.1.1), in parts where one is not enough.

use std::borrow::Cow;

use crate::jose::b64;

/// Octets of one cookie with its attributes that a browser keeps for sure (RFC 6265 §6.1).
const MAX_COOKIE: usize = 4096;
/// Parts of one value. More would be a request header that no server takes.
const MAX_PARTS: usize = 4;
/// RFC 6265 §3.1: a time in the past removes. The grammar has no `Max-Age` of 0 (§4.1.1).
const REMOVED: &str = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// When a browser sends a cookie with a request that another site causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SameSite {
    /// Never
    Strict,
    /// With a navigation
    Lax,
    /// Always
    None,
}

/// The cookies of a request: the whole `Cookie` header; of several, joined by `; `.
#[derive(Clone, Copy)]
pub(crate) struct Jar<'a>(pub(crate) &'a [u8]);

/// A name came twice with different values: somebody else's cookie may be among them, and nothing says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twice;

/// Not a value that [`write()`] split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<Twice> for Malformed {
    fn from(_: Twice) -> Malformed {
        Malformed
    }
}

impl<'a> Jar<'a> {
    /// Names and values. What has no `=` has no name, and is nobody's.
    fn pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.split(|b| *b == b';').filter_map(|pair| match split(pair) {
            (name, Some(value)) => Some((name, value)),
            _ => None,
        })
    }

    /// The value of a cookie, octets as they came. One that comes twice with different values is refused, not picked from.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&'a [u8]>, Twice> {
        let mut found = None;
        for (_, value) in self.pairs().filter(|(n, _)| *n == name.as_bytes()) {
            if found.is_some_and(|other| other != value) {
                return Err(Twice);
            }
            found = Some(value);
        }
        Ok(found)
    }

    fn has(&self, name: &str) -> bool {
        self.pairs().any(|(n, _)| n == name.as_bytes())
    }

    /// The names that begin with `prefix`, each as often as it comes.
    pub(crate) fn names_with(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let names = self.pairs().filter_map(|(name, _)| std::str::from_utf8(name).ok());
        names.filter(move |name| name.starts_with(prefix))
    }

    /// Whether a part of this value comes twice with different values: somebody else's is beside ours, and would still be when ours is
    /// written anew.
    pub(crate) fn is_doubled(&self, name: &str) -> bool {
        (1..=MAX_PARTS).any(|number| self.get(&part(name, number)).is_err())
    }

    /// A value that [`write()`] split; `None` if there is nothing of it.
    ///
    /// # Errors
    /// Parts are missing, doubled, too many, too long, or together not base64url. A part above the number that the first tells is left from
    /// a longer value, where two answers crossed, and is not read.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Malformed> {
        let Some(first) = self.get(name)? else {
            let parts = (2..=MAX_PARTS).any(|number| self.has(&part(name, number)));
            return if parts { Err(Malformed) } else { Ok(None) };
        };
        let [digit, b'.', rest @ ..] = first else {
            return Err(Malformed);
        };
        let count = char::from(*digit).to_digit(10).and_then(|n| usize::try_from(n).ok()).ok_or(Malformed)?;
        if !(1..=MAX_PARTS).contains(&count) || first.len() > MAX_COOKIE {
            return Err(Malformed);
        }
        let mut text = rest.to_vec();
        // Only the empty value has an empty part, and it has one part.
        if count > 1 && rest.is_empty() {
            return Err(Malformed);
        }
        for number in 2..=count {
            let value = self.get(&part(name, number))?.ok_or(Malformed)?;
            if value.is_empty() || value.len() > MAX_COOKIE {
                return Err(Malformed);
            }
            text.extend_from_slice(value);
        }
        b64::decode(&text).map(Some).ok_or(Malformed)
    }

    /// The header without the cookies for which `ours(name)`, the others as they came; `None` if nothing is left.
    pub(crate) fn without(&self, ours: impl Fn(&str) -> bool) -> Option<Vec<u8>> {
        let mut rest = Vec::with_capacity(self.0.len());
        for pair in self.0.split(|b| *b == b';') {
            // A server may take what has no `=` for a name without a value.
            let (name, _) = split(pair);
            if name.is_empty() && trim(pair).is_empty() || std::str::from_utf8(name).is_ok_and(&ours) {
                continue;
            }
            if !rest.is_empty() {
                rest.push(b';');
            }
            rest.extend_from_slice(pair);
        }
        let rest = trim(&rest);
        (!rest.is_empty()).then(|| rest.to_vec())
    }
}

/// Name and value of a pair. White space around a name is none of it for a browser (RFC 6265 §5.2), so it must not hide a second cookie.
fn split(pair: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut halves = trim(pair).splitn(2, |b| *b == b'=');
    let name = trim(halves.next().unwrap_or_default());
    (name, halves.next())
}

/// Without the white space of HTTP (RFC 9110 §5.6.3), and no other, at both ends.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The name of a part, counted from 1.
fn part(own: &str, number: usize) -> Cow<'_, str> {
    if number > 1 { Cow::Owned(format!("{own}_{number}")) } else { Cow::Borrowed(own) }
}

/// Whether a cookie is `own` or another part of it.
pub(crate) fn is_part_of(name: &str, own: &str) -> bool {
    (1..=MAX_PARTS).any(|number| part(own, number) == name)
}

/// Never with `Domain`: with it every host below could read and replace the cookie (RFC 6265 §8.6), and no `__Host-` name is kept.
fn attributes(same_site: SameSite) -> &'static str {
    match same_site {
        SameSite::Strict => "; Path=/; Secure; HttpOnly; SameSite=Strict",
        SameSite::Lax => "; Path=/; Secure; HttpOnly; SameSite=Lax",
        SameSite::None => "; Path=/; Secure; HttpOnly; SameSite=None",
    }
}

/// The values of `Set-Cookie` that keep `value` in as few cookies as it needs, and remove the parts that `jar` has beyond them.
///
/// Without `max_age`, in seconds, the browser decides when it forgets it. `None` if the value needs more than [`MAX_PARTS`].
pub(crate) fn write(
    jar: &Jar<'_>,
    name: &str,
    value: &[u8],
    same_site: SameSite,
    max_age: Option<u32>,
) -> Option<Vec<String>> {
    let mut end = attributes(same_site).to_owned();
    if let Some(seconds) = max_age {
        end.push_str(&format!("; Max-Age={seconds}"));
    }
    // `=` and the number of parts with its dot, or `_`, the number of the part and `=`: three octets in each.
    let room = MAX_COOKIE.checked_sub(name.len().checked_add(end.len())?)?.checked_sub(3).filter(|room| *room > 0)?;
    let text = b64::encode(value);
    let count = text.len().div_ceil(room).max(1);
    if count > MAX_PARTS {
        return None;
    }
    let mut rest = text.as_str();
    let mut cookies = Vec::with_capacity(MAX_PARTS);
    for number in 1..=count {
        let (here, after) = rest.split_at_checked(room.min(rest.len()))?;
        let counted = if number == 1 { format!("{count}.") } else { String::new() };
        cookies.push(format!("{}={counted}{here}{end}", part(name, number)));
        rest = after;
    }
    cookies.extend(removed(jar, name, count.saturating_add(1), same_site));
    Some(cookies)
}

/// The values of `Set-Cookie` that remove `name`, and the parts of it that `jar` has.
pub(crate) fn clear(jar: &Jar<'_>, name: &str, same_site: SameSite) -> Vec<String> {
    let mut cookies = vec![remove(name, same_site)];
    cookies.extend(removed(jar, name, 2, same_site));
    cookies
}

/// Removes the parts from `first` on that `jar` has.
fn removed(jar: &Jar<'_>, name: &str, first: usize, same_site: SameSite) -> impl Iterator<Item = String> {
    (first..=MAX_PARTS)
        .map(move |number| part(name, number))
        .filter(|part| jar.has(part))
        .map(move |part| remove(&part, same_site))
}

fn remove(name: &str, same_site: SameSite) -> String {
    format!("{name}={}{REMOVED}", attributes(same_site))
}

#[cfg(test)]
mod tests {
    use super::super::keyring::{Keyring, Place, Purpose};
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    const NAME: &str = "__Host-s";
    const EMPTY: Jar<'static> = Jar(b"");

    fn jar(header: &str) -> Jar<'_> {
        Jar(header.as_bytes())
    }

    /// A value that fills `characters` of base64url, each octet telling where it was.
    fn value(characters: usize) -> Vec<u8> {
        (0..characters * 3 / 4).map(|i| (i / 251 + i) as u8).collect()
    }

    /// Characters of base64url in one cookie of [`NAME`] with `SameSite=Lax` and no `Max-Age`.
    fn room() -> usize {
        4096 - "__Host-s=1.; Path=/; Secure; HttpOnly; SameSite=Lax".len()
    }

    fn write_lax(value: &[u8]) -> Option<Vec<String>> {
        write(&EMPTY, NAME, value, SameSite::Lax, None)
    }

    /// What a browser without cookies has after an answer, as it sends it.
    fn sent(cookies: &[String]) -> Vec<String> {
        let kept = cookies.iter().filter(|c| !c.contains("Expires="));
        kept.map(|c| c.split("; ").next().expect("pair").to_owned()).collect()
    }

    fn read(header: &str) -> Result<Option<Vec<u8>>, Malformed> {
        jar(header).read(NAME)
    }

    #[test]
    fn rfc6265_4_2_1_a_names_and_values_are_what_stands_between_the_semicolons() {
        for (header, expected) in [
            ("s=1", Some("1")),
            ("a=0; s=1; b=2", Some("1")),
            ("a=0;s=1;b=2", Some("1")),
            (" \ts=1\t ;", Some("1")),
            ("s =1", Some("1")),
            ("s=", Some("")),
            ("s=a=b==", Some("a=b==")),
            ("s= 1", Some(" 1")),
            ("s=\"1\"", Some("\"1\"")),
            ("s=1,2", Some("1,2")),
            ("s", None),
            ("=s=1", None),
            ("a=s=1", None),
            ("S=1", None),
            ("ss=1", None),
            ("s_2=1", None),
            ("s\0=1", None),
            ("\0s=1", None),
            ("s\r\n=1", None),
            ("s\u{a0}=1", None),
            ("a=0,s=1", None),
            ("a=0&s=1", None),
            ("", None),
            (";", None),
            ("; ;=;==;", None),
        ] {
            assert_eq!(jar(header).get("s"), Ok(expected.map(str::as_bytes)), "{header:?}");
        }
        assert_eq!(Jar(b"\xff=1; s=\xff\0; \xfe").get("s"), Ok(Some(&b"\xff\0"[..])));
    }

    #[test]
    fn a_name_that_comes_twice_with_different_values_is_refused() {
        for same in ["s=1; s=1", "s=1; a=2; s=1;s=1"] {
            assert_eq!(jar(same).get("s"), Ok(Some(&b"1"[..])), "{same}");
        }
        for tossed in
            ["s=1; s=2", "s=1; a=2; s=", "s=; s=1", "s=1; s =2", "s=1; s=1; s=1 1", "s=1; s=\"1\"", "s=1; s=1\0"]
        {
            assert_eq!(jar(tossed).get("s"), Err(Twice), "{tossed:?}");
        }
        let good = sent(&write_lax(b"text").expect("fits")).concat();
        assert_eq!(read(&format!("{good}; {good}")), Ok(Some(b"text".to_vec())));
        assert_eq!(read(&format!("{good}; {NAME}=1.AAAA")), Err(Malformed));
    }

    #[test]
    fn names_are_found_by_what_they_begin_with() {
        let names = |header: &'static [u8]| Jar(header).names_with("l_").collect::<Vec<_>>();
        assert_eq!(names(b"l_a=1; x=2; l_b=; L_c=1; l=1; xl_=1; l_=0; l_d; l_a=3"), ["l_a", "l_b", "l_", "l_a"]);
        assert_eq!(names(b"l_\xff=1; l_\0=1"), ["l_\0"]);
        assert_eq!(names(b""), [""; 0]);
    }

    #[test]
    fn rfc6265_4_1_1_a_a_cookie_has_all_its_attributes_and_no_domain() {
        for (same_site, max_age, expected) in [
            (SameSite::Lax, None, "__Host-s=1.dGV4dA; Path=/; Secure; HttpOnly; SameSite=Lax"),
            (SameSite::Strict, Some(60), "__Host-s=1.dGV4dA; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=60"),
            (
                SameSite::None,
                Some(u32::MAX),
                "__Host-s=1.dGV4dA; Path=/; Secure; HttpOnly; SameSite=None; Max-Age=4294967295",
            ),
        ] {
            assert_eq!(write(&EMPTY, NAME, b"text", same_site, max_age), Some(vec![expected.to_owned()]));
        }
    }

    #[test]
    fn rfc6265_6_1_a_no_cookie_with_its_attributes_is_longer_than_4096_octets() {
        for (characters, expected) in
            [(0, vec![52 + 3]), (room(), vec![4096]), (room() + 2, vec![4096, 52 + 2 + 3]), (4 * room(), vec![4096; 4])]
        {
            let value = value(characters);
            let cookies = write_lax(&value).expect("fits");
            let lengths: Vec<usize> = cookies.iter().map(String::len).collect();
            assert_eq!(lengths.len(), expected.len(), "{characters}");
            assert!(lengths.iter().all(|n| *n <= 4096), "{lengths:?}");
            assert_eq!(read(&sent(&cookies).join("; ")), Ok(Some(value)), "{characters}");
        }
        assert_eq!(write_lax(&value(4 * room() + 2)), None);
        assert_eq!(write_lax(&value(100 * room())), None);
        // What `Max-Age` takes is not there for the value.
        assert_eq!(write(&EMPTY, NAME, &value(4 * room()), SameSite::Lax, Some(1)), None);
    }

    #[test]
    fn a_name_that_leaves_no_room_is_refused() {
        let longest = 4096 - "=1.; Path=/; Secure; HttpOnly; SameSite=Lax".len();
        let write = |octets: usize| write(&EMPTY, &"n".repeat(octets), b"", SameSite::Lax, None);
        assert!(write(longest - 1).is_some());
        for octets in [longest, longest + 1, 5000] {
            assert_eq!(write(octets), None, "{octets}");
        }
    }

    #[test]
    fn parts_come_in_any_order_and_among_others() {
        let value = value(3 * room());
        let mut parts = sent(&write_lax(&value).expect("fits"));
        assert!(parts[0].starts_with("__Host-s=3."));
        assert!(parts[1].starts_with("__Host-s_2=") && parts[2].starts_with("__Host-s_3="));
        parts.reverse();
        assert_eq!(read(&format!("a=1; {}", parts.join("; b; "))), Ok(Some(value)));
    }

    #[test]
    fn parts_that_are_missing_doubled_or_of_the_wrong_number_are_refused() {
        for good in [
            "__Host-s=1.QUJD",
            "__Host-s=2.QU; __Host-s_2=JD",
            "__Host-s=4.Q; __Host-s_2=U; __Host-s_3=J; __Host-s_4=D",
        ] {
            assert_eq!(read(good), Ok(Some(b"ABC".to_vec())), "{good}");
        }
        for absent in ["", "a=1", "__Host-s_5=QUJD", "__Host-s_1=QUJD", "__Host-s_02=QUJD"] {
            assert_eq!(read(absent), Ok(None), "{absent}");
        }
        for bad in [
            "__Host-s=2.QUJD",
            "__Host-s=3.QU; __Host-s_3=JD",
            "__Host-s_2=JD",
            "__Host-s_4=JD; a=1",
            "__Host-s=2.QU; __Host-s_2=JD; __Host-s_2=JE",
            "__Host-s=2.QU; __Host-s=2.QV; __Host-s_2=JD",
            "__Host-s=2.QUJD; __Host-s_2=",
            "__Host-s=2.; __Host-s_2=QUJD",
            "__Host-s=0.QUJD",
            "__Host-s=5.QUJD; __Host-s_2=QUJD; __Host-s_3=QUJD; __Host-s_4=QUJD; __Host-s_5=QUJD",
            "__Host-s=9.QUJD",
            "__Host-s=01.QUJD",
            "__Host-s=10.QUJD",
            "__Host-s=-1.QUJD",
            "__Host-s=+1.QUJD",
            "__Host-s=a.QUJD",
            "__Host-s=\u{661}.QUJD",
            "__Host-s=.QUJD",
            "__Host-s=1QUJD",
            "__Host-s=QUJD",
            "__Host-s=1",
            "__Host-s=",
        ] {
            assert_eq!(read(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn rfc7515_5_2_b_values_are_canonical_base64url() {
        assert_eq!(read("__Host-s=1.QUI"), Ok(Some(b"AB".to_vec())));
        assert_eq!(read("__Host-s=1."), Ok(Some(Vec::new())));
        for bad in [
            "QUI=", "QUJ", "Q", "QU+/", "QU I", "QU\0I", "QUI\n", "QU\x7fI", "\"QUI\"", "QU%49", "QU.I", "1.QUI",
            "QU,I", "QU\u{e9}",
        ] {
            assert_eq!(read(&format!("__Host-s=1.{bad}")), Err(Malformed), "{bad:?}");
            assert_eq!(read(&format!("__Host-s=2.QUJD; __Host-s_2={bad}")), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_part_longer_than_any_that_is_written_is_refused() {
        let long = |characters: usize| "A".repeat(characters);
        assert!(read(&format!("{NAME}=1.{}", long(4092))).is_ok());
        assert_eq!(read(&format!("{NAME}=1.{}", long(4096))), Err(Malformed));
        assert!(read(&format!("{NAME}=2.AAAA; {NAME}_2={}", long(4096))).is_ok());
        assert_eq!(read(&format!("{NAME}=2.AAAA; {NAME}_2={}", long(4100))), Err(Malformed));
        assert_eq!(read(&format!("{NAME}=1.{}", long(10_000_000))), Err(Malformed));
    }

    #[test]
    fn thousands_of_cookies_are_read_like_one() {
        let good = sent(&write_lax(b"text").expect("fits")).concat();
        let others: String = (0..20_000).map(|i| format!("c{i}={i}; ;")).collect();
        let header = format!("{others}{good}; {others}");
        assert_eq!(read(&header), Ok(Some(b"text".to_vec())));
        assert_eq!(jar(&header).names_with("c").count(), 40_000);
        assert_eq!(jar(&header).without(|name| name.starts_with('c')), Some(good.into_bytes()));
    }

    #[test]
    fn a_shorter_value_removes_the_parts_that_it_does_not_use() {
        let (long, short) = (value(4 * room()), value(2 * room()));
        let before = sent(&write_lax(&long).expect("fits"));
        let header = before.join("; ");
        let cookies = write(&jar(&header), NAME, &short, SameSite::Lax, None).expect("fits");
        let gone = |name: &str| {
            format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        };
        assert_eq!(cookies.len(), 4);
        assert_eq!(cookies[2..], [gone("__Host-s_3"), gone("__Host-s_4")]);
        assert_eq!(write(&jar(&before[..2].join("; ")), NAME, &short, SameSite::Lax, None).expect("fits").len(), 2);
        // An answer that crossed with a longer one did not know of its parts.
        let left = format!("{}; {}", sent(&cookies).join("; "), before[2..].join("; "));
        assert_eq!(read(&left), Ok(Some(short)));
    }

    #[test]
    fn clear_removes_the_name_always_and_the_parts_that_are_there() {
        let names = |header: &str| -> Vec<String> {
            let cookies = clear(&jar(header), NAME, SameSite::Strict);
            let end = "=; Path=/; Secure; HttpOnly; SameSite=Strict; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
            cookies.iter().map(|c| c.strip_suffix(end).expect("the end of all").to_owned()).collect()
        };
        assert_eq!(names(""), ["__Host-s"]);
        assert_eq!(names("__Host-s=1.QUJD; __Host-s_5=a; __Host-s2=a; other_2=a"), ["__Host-s"]);
        assert_eq!(names("__Host-s_2=; __Host-s_4=x; __Host-s_4=y"), ["__Host-s", "__Host-s_2", "__Host-s_4"]);
    }

    #[test]
    fn a_part_is_known_by_its_number_alone() {
        for name in ["s", "s_2", "s_3", "s_4"] {
            assert!(is_part_of(name, "s"), "{name}");
        }
        for name in
            ["", "S", "s_", "s_0", "s_1", "s_5", "s_02", "s_22", "s_2_2", "s2", "ss", "ss_2", "_2", "s_2 ", "s_\u{662}"]
        {
            assert!(!is_part_of(name, "s"), "{name}");
        }
    }

    #[test]
    fn names_that_are_prefixes_of_each_other_are_different_values() {
        let names = ["s", "ss", "s_", "s_login", "__Host-s"];
        let values: Vec<Vec<u8>> = (0..names.len()).map(|i| value((i + 1) * 1200)).collect();
        let written = |(name, value): (&&str, &Vec<u8>)| {
            sent(&write(&EMPTY, name, value, SameSite::Lax, None).expect("fits")).join("; ")
        };
        let header = names.iter().zip(&values).map(written).collect::<Vec<_>>().join("; ");
        for (name, value) in names.iter().zip(&values) {
            assert_eq!(jar(&header).read(name), Ok(Some(value.clone())), "{name}");
            let rest = jar(&header).without(|n| is_part_of(n, name)).expect("others");
            assert_eq!(Jar(&rest).read(name), Ok(None), "{name}");
            for (other, value) in names.iter().zip(&values).filter(|(other, _)| *other != name) {
                assert_eq!(Jar(&rest).read(other), Ok(Some(value.clone())), "{other} without {name}");
            }
        }
    }

    #[test]
    fn what_goes_on_to_the_upstream_has_none_of_ours_and_all_the_others_as_they_came() {
        for (header, expected) in [
            ("a=1; b=2", Some("a=1; b=2")),
            ("a=1; s=x; b=2", Some("a=1; b=2")),
            ("s=x; a=1; b=2", Some("a=1; b=2")),
            ("a=1; b=2; s=x", Some("a=1; b=2")),
            ("a=1;s=x;b=2", Some("a=1;b=2")),
            ("s=x; s=y; a=1;s_2=z; s_4=w; s_5=v", Some("a=1; s_5=v")),
            ("s; a=1", Some("a=1")),
            ("s =x; \ts\t=y; a=1", Some("a=1")),
            ("a=\"1\\0\" ; s=x; nameless; =v; S=1; ss=2", Some("a=\"1\\0\" ; nameless; =v; S=1; ss=2")),
            ("a=s=x", Some("a=s=x")),
            ("s=x", None),
            ("s=x; s_2=y;", None),
            (" ; ;; s=x; \t", None),
            ("", None),
            (";", None),
            ("a=1;; ;b=2; ", Some("a=1;b=2")),
        ] {
            let rest = jar(header).without(|name| is_part_of(name, "s"));
            assert_eq!(rest.map(|rest| String::from_utf8(rest).expect("UTF-8")).as_deref(), expected, "{header:?}");
        }
        assert_eq!(Jar(b"\xff=\0; s=x").without(|name| name == "s").as_deref(), Some(&b"\xff=\0"[..]));
    }

    /// A sealed value of several parts, as a browser sends it.
    fn sealed(plaintext: &[u8]) -> (Keyring, Vec<String>) {
        let keyring = Keyring::new(&[Zeroizing::new("0123456789abcdef0123456789abcdef".to_owned())]);
        let value = keyring.seal(&PLACE, plaintext).expect("sealed");
        (keyring, sent(&write_lax(&value).expect("fits")))
    }

    const PLACE: Place<'static> = Place { purpose: Purpose::Session, cookie: NAME, host: "api.test", audience: "" };

    fn opens(keyring: &Keyring, header: &[u8]) -> Option<Vec<u8>> {
        let value = Jar(header).read(NAME).ok()??;
        keyring.open(&PLACE, &value).map(|opened| opened.plaintext.to_vec())
    }

    #[test]
    fn swapped_and_mixed_parts_do_not_open() {
        let text = value(3 * room() - 100);
        let (keyring, parts) = sealed(&text);
        let values: Vec<&str> = parts.iter().map(|p| p.split_once('=').expect("pair").1).collect();
        let (first, second, third) = (values[0].strip_prefix("3.").expect("three parts"), values[1], values[2]);
        let header = |a: &str, b: &str, c: &str| format!("{NAME}=3.{a}; {NAME}_2={b}; {NAME}_3={c}").into_bytes();
        assert_eq!(opens(&keyring, &header(first, second, third)), Some(text.clone()));
        for [a, b, c] in [
            [second, first, third],
            [third, second, first],
            [first, third, second],
            [second, third, first],
            [first, first, third],
            [first, second, second],
        ] {
            assert_eq!(opens(&keyring, &header(a, b, c)), None);
        }
        assert_eq!(opens(&keyring, format!("{NAME}=2.{first}; {NAME}_2={second}").as_bytes()), None);
        // The same text sealed again: parts of the two do not go together.
        let (_, again) = sealed(&text);
        for at in 0..3 {
            let mut mixed = parts.clone();
            mixed[at].clone_from(&again[at]);
            assert_eq!(opens(&keyring, mixed.join("; ").as_bytes()), None, "part {at}");
        }
    }

    #[test]
    fn a_change_of_any_byte_of_a_sealed_cookie_and_a_cut_anywhere_refuse() {
        let (keyring, parts) = sealed(b"some text");
        let header = parts.join("; ").into_bytes();
        assert_eq!(opens(&keyring, &header).as_deref(), Some(&b"some text"[..]));
        for at in 0..header.len() {
            for byte in 0..=255 {
                let mut changed = header.clone();
                changed[at] = byte;
                let same = byte == header[at];
                assert_eq!(opens(&keyring, &changed).is_some(), same, "byte {at} to {byte}");
            }
            assert_eq!(opens(&keyring, &header[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_cut_of_any_part_of_several_refuses() {
        let (keyring, parts) = sealed(&value(3 * room() - 100));
        assert!(opens(&keyring, parts.join("; ").as_bytes()).is_some());
        for at in 0..parts.len() {
            let len = parts[at].len();
            for cut in (0..len).filter(|cut| *cut < 30 || *cut > len - 30 || cut % 97 == 0) {
                let mut short = parts.clone();
                short[at].truncate(cut);
                assert_eq!(opens(&keyring, short.join("; ").as_bytes()), None, "part {at} cut at {cut}");
            }
        }
    }

    /// Headers that are nearly ours, so that the parser gets far.
    fn nearly_cookies() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"s".to_vec()),
            Just(b"_2".to_vec()),
            Just(b"_4".to_vec()),
            Just(b"=".to_vec()),
            Just(b"; ".to_vec()),
            Just(b";".to_vec()),
            Just(b" ".to_vec()),
            Just(b"1.".to_vec()),
            Just(b"2.".to_vec()),
            Just(b"QUJD".to_vec()),
            Just(b"s=2.QU; s_2=JD".to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_header_is_read_without_a_panic_and_loses_all_of_ours(header in nearly_cookies()) {
            let jar = Jar(&header);
            let ours = |name: &str| is_part_of(name, "s");
            let others = |jar: Jar<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
                let pairs = jar.pairs().filter(|(name, _)| !std::str::from_utf8(name).is_ok_and(ours));
                pairs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
            };
            let rest = jar.without(ours);
            let rest = Jar(rest.as_deref().unwrap_or_default());
            prop_assert_eq!(rest.pairs().count(), others(rest).len());
            prop_assert_eq!(others(rest), others(jar));
            prop_assert_eq!(rest.read("s"), Ok(None));
            prop_assert_eq!(clear(&jar, "s", SameSite::Lax).len(), 1 + (2..=4).filter(|n| jar.has(&part("s", *n))).count());
            if let Ok(Some(value)) = jar.read("s") {
                let again = write(&jar, "s", &value, SameSite::Lax, None).expect("it was short");
                prop_assert_eq!(Jar(sent(&again).join("; ").as_bytes()).read("s"), Ok(Some(value)));
            }
        }

        #[test]
        fn what_is_written_is_read(
            value in prop::collection::vec(any::<u8>(), 0..12_200),
            name in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}",
            max_age in any::<Option<u32>>(),
            before in nearly_cookies(),
        ) {
            let cookies = write(&Jar(&before), &name, &value, SameSite::Strict, max_age);
            if value.len() <= 11_900 {
                prop_assert!(cookies.is_some());
            }
            if let Some(cookies) = cookies {
                prop_assert!(cookies.iter().all(|c| c.len() <= 4096));
                prop_assert!(sent(&cookies).iter().all(|c| is_part_of(c.split('=').next().expect("name"), &name)));
                prop_assert_eq!(Jar(sent(&cookies).join("; ").as_bytes()).read(&name), Ok(Some(value)));
            }
        }
    }
}
