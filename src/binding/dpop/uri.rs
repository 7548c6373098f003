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
