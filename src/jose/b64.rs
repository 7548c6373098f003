//! base64url as RFC 7515 §2 wants it: no padding, no white space, no bits set that nothing reads.

use std::sync::LazyLock;

use base64::Engine as _;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use base64::engine::GeneralPurpose as Bulk;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use base64::engine::Simd as Bulk;
use base64::engine::general_purpose::{NO_PAD, URL_SAFE_NO_PAD};

/// Strict as [`URL_SAFE_NO_PAD`], and vectorised where the processor can be: it decodes the whole of each new token.
static BULK: LazyLock<Bulk> = LazyLock::new(|| {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return Bulk::url_safe(NO_PAD);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Bulk::new(&base64::alphabet::URL_SAFE, NO_PAD);
});

/// Decodes the whole input, or nothing.
pub(crate) fn decode(input: &[u8]) -> Option<Vec<u8>> {
    // Room first: the library's own `decode` asks for zeroed memory, which the allocator does not recycle as quickly.
    let mut out = Vec::with_capacity(base64::decoded_len_estimate(input.len()));
    BULK.decode_vec(input, &mut out).ok()?;
    Some(out)
}

/// Decodes into the front of `out` and returns the number of octets written.
pub(crate) fn decode_into(input: &[u8], out: &mut [u8]) -> Option<usize> {
    BULK.decode_slice(input, out).ok()
}

/// Decodes the 43 characters of a SHA-256 value; any other length is refused.
pub(crate) fn decode_sha256(input: &str) -> Option<[u8; 32]> {
    // The decoder may want room for a whole last quantum.
    let mut out = [0; 33];
    if input.len() != 43 || decode_into(input.as_bytes(), &mut out)? != 32 {
        return None;
    }
    out.first_chunk().copied()
}

pub(crate) fn encode(input: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(input)
}

/// Encodes behind what is there.
pub(crate) fn encode_to(input: &[u8], out: &mut String) {
    URL_SAFE_NO_PAD.encode_string(input, out);
}

/// Encodes a SHA-256 value.
pub(crate) fn encode_sha256(input: &[u8; 32]) -> [u8; 43] {
    let mut out = [0; 43];
    // Cannot fail: 32 octets are 43 characters.
    let _ = URL_SAFE_NO_PAD.encode_slice(input, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

    #[test]
    fn rfc7515_5_2_b_nothing_but_canonical_base64url_decodes() {
        assert!(decode(b"QUI").is_some());
        for bad in ["QUI=", "QU I", "QUI\n", "QUJ", "Q", "QU+/", "\u{e9}A"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn rfc8705_3_1_b_a_hash_has_43_characters_and_no_stray_bits() {
        let hash = decode_sha256(VALID).expect("valid");
        assert_eq!(encode_sha256(&hash), VALID.as_bytes());
        let cut = &VALID[..42];
        for bad in [
            format!("{VALID}="),
            format!("{VALID}A"),
            cut.to_owned(),
            format!("{cut}1"),
            format!("{cut}\n"),
            VALID.replace('L', "+"),
            VALID.replace('L', "/"),
        ] {
            assert_eq!(decode_sha256(&bad), None, "{bad:?}");
        }
    }
}
