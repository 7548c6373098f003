//! URIs in the normal form of RFC 3986 §6.2.2 and §6.2.3, without query and fragment: what `htu` is compared by (RFC 9449 §4.3).

use core::net::Ipv6Addr;

/// Longest URI that is looked at, in bytes.
pub(crate) const MAX_URI: usize = 2048;

/// The normal form of an absolute `https` URI. `None` for any other, and for what is no URI: nothing is guessed.
pub(crate) fn normal(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_at_checked("https://".len())?;
    if !scheme.eq_ignore_ascii_case("https://") || uri.len() > MAX_URI {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    Some(["https://", &self::authority(authority)?, &self::path(path)?].concat())
}

/// Host and port: in lower case, an IPv6 address in its short form (RFC 5952), without the port that `https` has anyway. There is no place for
/// user information, and none for a name that is not in ASCII (RFC 3490 has a form for it).
pub(crate) fn authority(text: &str) -> Option<String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (format!("[{address}]"), port.strip_prefix(':').or_else(|| port.is_empty().then_some("")))
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            let is_name = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
            (!host.is_empty() && host.bytes().all(is_name)).then(|| (host.to_ascii_lowercase(), Some(port)))?
        }
    };
    match port? {
        "" => Some(host),
        port if port.bytes().all(|c| c.is_ascii_digit()) => match port.parse::<u16>().ok()? {
            443 => Some(host),
            port => Some(format!("{host}:{port}")),
        },
        _ => None,
    }
}

/// The path of a URI or of a request target, which may have a query and a fragment behind it. It is absolute, or empty, which is `/`.
pub(crate) fn path(text: &str) -> Option<String> {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    if text.is_empty() {
        return Some("/".to_owned());
    }
    if !text.starts_with('/') || text.len() > MAX_URI {
        return None;
    }
    let plain = unescape(text)?;
    if !plain.contains("/.") {
        return Some(plain);
    }
    // RFC 3986 §5.2.4. Empty segments count: `//a` is not `/a`.
    let mut segments: Vec<&str> = Vec::new();
    let mut is_directory = false;
    for segment in plain.split('/').skip(1) {
        is_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    if is_directory {
        segments.push("");
    }
    Some(["/", &segments.join("/")].concat())
}

/// Percent-encoded unreserved characters as they are, and all other escapes in upper case.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(c) = rest.next() {
        if c == b'%' {
            let octet = hex(rest.next()?)?.checked_mul(16)?.checked_add(hex(rest.next()?)?)?;
            if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
                out.push(char::from(octet));
            } else {
                out.push_str(&format!("%{octet:02X}"));
            }
        } else if c.is_ascii_graphic() && !b"\"<>\\`{}".contains(&c) {
            out.push(char::from(c));
        } else {
            return None;
        }
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of normal forms: what is sent, what is in `htu`, and whether they are the same resource.
    const TABLE: [(&str, &str, bool); 64] = [
        // The host, and the scheme.
        ("https://api.example.com/a", "https://api.example.com/a", true),
        ("https://api.example.com/a", "https://API.Example.COM/a", true),
        ("https://api.example.com/a", "HTTPS://api.example.com/a", true),
        ("https://api.example.com/a", "hTTpS://api.example.com/a", true),
        ("https://api.example.com/a", "https://api.example.com./a", false),
        ("https://api.example.com/a", "https://api.example.org/a", false),
        ("https://api.example.com/a", "https://api-example.com/a", false),
        ("https://api.example.com/a", "https://api.example.com.evil.test/a", false),
        ("https://api.example.com/a", "https://evil.test/a", false),
        ("https://api.example.com/a", "https://example.com/a", false),
        ("https://my_host/a", "https://my_host/a", true),
        ("https://127.0.0.1/a", "https://127.0.0.1/a", true),
        ("https://127.0.0.1/a", "https://2130706433/a", false),
        ("https://[::1]/a", "https://[0:0:0:0:0:0:0:1]/a", true),
        ("https://[2001:DB8::A]/a", "https://[2001:db8:0::a]/a", true),
        ("https://[::ffff:192.0.2.1]/a", "https://[::ffff:c000:201]/a", true),
        ("https://[::1]/a", "https://[::2]/a", false),
        ("https://[::ffff:192.0.2.1]/a", "https://192.0.2.1/a", false),
        // The port.
        ("https://api.example.com/a", "https://api.example.com:443/a", true),
        ("https://api.example.com/a", "https://api.example.com:/a", true),
        ("https://api.example.com/a", "https://api.example.com:0443/a", true),
        ("https://api.example.com/a", "https://api.example.com:8443/a", false),
        ("https://api.example.com:8443/a", "https://api.example.com:8443/a", true),
        ("https://api.example.com:8443/a", "https://api.example.com/a", false),
        ("https://api.example.com:80/a", "https://api.example.com/a", false),
        ("https://[::1]:443/a", "https://[::1]/a", true),
        ("https://[::1]:8443/a", "https://[0::1]:8443/a", true),
        ("https://[::1]:8443/a", "https://[::1]/a", false),
        // Query and fragment.
        ("https://api.example.com/a?x=1", "https://api.example.com/a", true),
        ("https://api.example.com/a?x=1", "https://api.example.com/a?x=2#f", true),
        ("https://api.example.com/a", "https://api.example.com/a#", true),
        ("https://api.example.com/a", "https://api.example.com/a#?/b", true),
        ("https://api.example.com?x", "https://api.example.com/", true),
        ("https://api.example.com#x", "https://api.example.com/", true),
        ("https://api.example.com/a", "https://api.example.com/a%3Fx=1", false),
        ("https://api.example.com/a", "https://api.example.com/a%23f", false),
        // The path.
        ("https://api.example.com", "https://api.example.com/", true),
        ("https://api.example.com/a", "https://api.example.com/A", false),
        ("https://api.example.com/a/", "https://api.example.com/a", false),
        ("https://api.example.com//a", "https://api.example.com/a", false),
        ("https://api.example.com//a", "https://api.example.com//a", true),
        ("https://api.example.com/a//b", "https://api.example.com/a/b", false),
        ("https://api.example.com/a;v=1", "https://api.example.com/a;v=1", true),
        ("https://api.example.com/a;v=1", "https://api.example.com/a", false),
        ("https://api.example.com/a;v=1", "https://api.example.com/a%3Bv=1", false),
        ("https://api.example.com/a+b", "https://api.example.com/a%20b", false),
        // Escapes.
        ("https://api.example.com/%7Euser", "https://api.example.com/~user", true),
        ("https://api.example.com/%41%62%2D", "https://api.example.com/Ab-", true),
        ("https://api.example.com/%2fetc", "https://api.example.com//etc", false),
        ("https://api.example.com/%2fx", "https://api.example.com/%2Fx", true),
        ("https://api.example.com/%c3%a9", "https://api.example.com/%C3%A9", true),
        ("https://api.example.com/%C3%A9", "https://api.example.com/e%CC%81", false),
        ("https://api.example.com/%2541", "https://api.example.com/A", false),
        ("https://api.example.com/%2541", "https://api.example.com/%41", false),
        // Dots.
        ("https://api.example.com/a/./b/../c", "https://api.example.com/a/c", true),
        ("https://api.example.com/a/b/..", "https://api.example.com/a/", true),
        ("https://api.example.com/a/b/.", "https://api.example.com/a/b/", true),
        ("https://api.example.com/../../a", "https://api.example.com/a", true),
        ("https://api.example.com/%2e%2E/a", "https://api.example.com/a", true),
        ("https://api.example.com/a/.%2e/b", "https://api.example.com/b", true),
        ("https://api.example.com/a//../b", "https://api.example.com/a/b", true),
        ("https://api.example.com/.well-known/x", "https://api.example.com/.well-known/x", true),
        ("https://api.example.com/a/..b", "https://api.example.com/b", false),
        ("https://api.example.com/a/...", "https://api.example.com/", false),
    ];

    #[test]
    fn rfc9449_4_3_9n_the_table_of_normal_forms() {
        for (sent, htu, is_same) in TABLE {
            let (one, other) = (normal(sent), normal(htu));
            assert!(one.is_some() && other.is_some(), "{sent} {htu}");
            assert_eq!(one == other, is_same, "{sent} {htu}");
        }
    }

    #[test]
    fn rfc9449_4_3_9_what_is_no_absolute_https_uri_has_no_normal_form() {
        let long = format!("https://api.example.com/{}", "a".repeat(64 * 1024));
        for bad in [
            "",
            "*",
            "/a",
            "//api.example.com/a",
            "api.example.com/a",
            "http://api.example.com/a",
            "httpss://api.example.com/a",
            "https:/api.example.com/a",
            "https:api.example.com/a",
            "urn:a:b",
            "https://",
            "https:///a",
            "https://?x",
            "https://:443/a",
            " https://api.example.com/a",
            "https://u:p@api.example.com/a",
            "https://u@api.example.com/a",
            "https://@api.example.com/a",
            "https://api.example.com@evil.test/a",
            "https://api.example.com:x/a",
            "https://api.example.com:+443/a",
            "https://api.example.com:-1/a",
            "https://api.example.com:65536/a",
            "https://api.example.com:443:443/a",
            "https://api.example.com:99999999999999999999/a",
            "https://api_example%2ecom/a",
            "https://api,example.com/a",
            "https://api.example.com\\@evil.test/a",
            "https://b\u{fc}cher.example/a",
            "https://api.example.com/\u{e9}",
            "https://api.example.com/a b",
            "https://api.example.com/a\tb",
            "https://api.example.com/a\nb",
            "https://api.example.com/a\0b",
            "https://api.example.com/a\u{7f}b",
            "https://api.example.com/a\\b",
            "https://api.example.com/a\"b",
            "https://api.example.com/<a>",
            "https://api.example.com/{a}",
            "https://api.example.com/%",
            "https://api.example.com/%4",
            "https://api.example.com/%zz",
            "https://api.example.com/%4g",
            "https://api.example.com/%+1",
            "https://[::1/a",
            "https://::1/a",
            "https://[::1]x/a",
            "https://[::1]]/a",
            "https://[fe80::1%25eth0]/a",
            "https://[1.2.3.4]/a",
            "https://[]/a",
            "https://[::1]:x/a",
            "\u{20ac}\u{20ac}\u{20ac}/a",
            &long,
        ] {
            assert_eq!(normal(bad), None, "{bad:?}");
        }
        let exact = &long[..MAX_URI];
        assert_eq!(normal(exact).as_deref(), Some(exact));
        assert_eq!(normal(&long[..=MAX_URI]), None);
        // What comes behind the path counts, too.
        assert_eq!(normal(&format!("{}?x", &long[..MAX_URI - 1])), None);
    }

    #[test]
    fn a_path_is_absolute_or_empty() {
        for (given, expected) in [
            ("", Some("/")),
            ("?x", Some("/")),
            ("/", Some("/")),
            ("/a?x#y", Some("/a")),
            ("/.", Some("/")),
            ("/..", Some("/")),
            ("/a/..", Some("/")),
            ("/a/b/../..", Some("/")),
            ("/a/./", Some("/a/")),
            ("a", None),
            ("*", None),
            ("./a", None),
            ("https://x/a", None),
        ] {
            assert_eq!(path(given).as_deref(), expected, "{given}");
        }
    }

    /// URIs, and what is nearly one.
    fn uri() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/".to_owned()),
            Just("/.".to_owned()),
            Just("/..".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%25".to_owned()),
            Just("2e".to_owned()),
            Just(";".to_owned()),
            "[a-cA-C~.:@!-]{0,3}",
            "%[0-9a-fA-F]{2}",
            "[ -~]",
        ];
        let authority = prop_oneof![
            Just("api.test".to_owned()),
            Just("API.test:443".to_owned()),
            Just("api.test:8443".to_owned()),
            Just("[0:0::1]".to_owned()),
            "[a-cA-C.:0-9]{1,6}",
        ];
        (authority, proptest::collection::vec(part, 0..12))
            .prop_map(|(authority, parts)| format!("https://{authority}{}", parts.concat()))
    }

    /// RFC 3986 §5.2.4 as it is written there: a buffer that is taken apart from the front.
    fn remove_dot_segments(path: &str) -> String {
        let (mut input, mut output) = (path.to_owned(), String::new());
        while !input.is_empty() {
            if let Some(rest) = input.strip_prefix("/./") {
                input = format!("/{rest}");
            } else if input == "/." {
                input = "/".into();
            } else if let Some(rest) = input.strip_prefix("/../") {
                input = format!("/{rest}");
                output.truncate(output.rfind('/').unwrap_or(0));
            } else if input == "/.." {
                input = "/".into();
                output.truncate(output.rfind('/').unwrap_or(0));
            } else {
                let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
                output.push_str(&input[..end]);
                input.drain(..end);
            }
        }
        output
    }

    /// The octets of a path, each with whether it is escaped and so means something else than the character would.
    fn octets(path: &str) -> Vec<(u8, bool)> {
        let (mut out, mut rest) = (Vec::new(), path.bytes());
        while let Some(c) = rest.next() {
            let escaped = (c == b'%').then(|| {
                let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                u8::from_str_radix(std::str::from_utf8(&digits).expect("ASCII"), 16).expect("hexadecimal")
            });
            out.push(match escaped {
                Some(octet) => (octet, !(octet.is_ascii_alphanumeric() || b"-._~".contains(&octet))),
                None => (c, false),
            });
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_normal_form_is_its_own(uri in uri()) {
            if let Some(normal) = normal(&uri) {
                prop_assert_eq!(super::normal(&normal), Some(normal));
            }
        }

        #[test]
        fn no_text_panics(uri in "\\PC{0,40}", tail in "\\PC{0,40}") {
            let _ = (normal(&uri), normal(&format!("https://{uri}")), path(&format!("/{uri}")), authority(&tail));
            let _ = normal(&format!("https://api.test/{tail}"));
        }

        #[test]
        fn dots_go_as_rfc3986_has_them_go(segments in proptest::collection::vec("[.ab]{0,3}", 0..10)) {
            let given = format!("/{}", segments.join("/"));
            prop_assert_eq!(path(&given), Some(remove_dot_segments(&given)));
        }

        #[test]
        fn no_two_different_resources_are_one(one in "/[%2F7ar/]{0,8}", other in "/[%2F7ar/]{0,8}") {
            if let (Some(normal_one), Some(normal_other)) = (path(&one), path(&other)) {
                prop_assert_eq!(normal_one == normal_other, octets(&one) == octets(&other), "{} {}", one, other);
                prop_assert_eq!(octets(&normal_one), octets(&one));
            }
        }

        #[test]
        fn an_escaped_unreserved_character_is_the_character(path in "/[a-zA-Z0-9._~-]{1,8}", at in any::<proptest::sample::Index>()) {
            let at = 1 + at.index(path.len() - 1);
            let escaped = format!("{}%{:02x}{}", &path[..at], path.as_bytes()[at], &path[at + 1..]);
            prop_assert_eq!(super::path(&escaped), super::path(&path));
        }

        #[test]
        fn an_escaped_reserved_character_is_another_one(c in "[!$&'()*+,;=:@/]") {
            let escaped = format!("/a%{:02X}b", c.as_bytes()[0]);
            prop_assert_ne!(path(&escaped), path(&format!("/a{c}b")));
            prop_assert_eq!(path(&escaped), Some(escaped));
        }
    }
}
