//! Client certificates as they reach a gateway: DER or PEM in, the exact bytes hashed, dates read only where they matter.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::crypto;
use crate::jose::b64;

/// Largest certificate, in octets of DER. Real ones have 0.5 to 3 KiB.
pub const MAX_DER: usize = 16 * 1024;
/// Largest PEM text: [`MAX_DER`] in base64 with line ends, indentation and the two boundary lines.
pub const MAX_PEM: usize = 24 * 1024;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// Why a certificate is refused before anything is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// More than [`MAX_DER`] octets of DER or [`MAX_PEM`] bytes of PEM.
    TooLarge,
    /// Not one `CERTIFICATE` block, or something before or behind it.
    NotOnePem,
    /// The block does not hold base64.
    Base64,
    /// Not one DER value of exactly the given length.
    NotOneDer,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::TooLarge => {
                write!(f, "the certificate is larger than {MAX_DER} octets of DER")
            }
            CertificateError::NotOnePem => f.write_str(
                "the text is not exactly one PEM certificate: it must begin with -----BEGIN CERTIFICATE----- and end with -----END CERTIFICATE-----",
            ),
            CertificateError::Base64 => f.write_str("the PEM certificate does not hold base64"),
            CertificateError::NotOneDer => {
                f.write_str("the certificate is not exactly one DER value")
            }
        }
    }
}

/// SHA-256 of a certificate's DER: the `x5t#S256` of RFC 8705 §3.1. Displayed as base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbprint(pub(crate) [u8; 32]);

impl Thumbprint {
    /// Hashes exact DER bytes. Nothing is parsed: what the TLS layer verified is what is hashed.
    pub fn of_der(der: &[u8]) -> Thumbprint {
        Thumbprint(crypto::sha256(der))
    }

    /// Reads the 43 characters of base64url; anything else is `None`.
    pub fn parse(text: &str) -> Option<Thumbprint> {
        b64::decode_sha256(text).map(Thumbprint)
    }

    /// The 43 characters of base64url.
    pub fn to_base64url(self) -> [u8; 43] {
        b64::encode_sha256(&self.0)
    }

    /// Constant-time comparison.
    #[must_use]
    pub fn matches(&self, other: &Thumbprint) -> bool {
        crypto::equal(&self.0, &other.0)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&b64::encode(&self.0))
    }
}

/// `notBefore` and `notAfter`, both inclusive (RFC 5280 §4.1.2.5), in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second of validity
    pub not_before: i64,
    /// Last second of validity
    pub not_after: i64,
}

impl Validity {
    /// Reads the dates; `None` if the certificate does not parse as X.509.
    pub fn of_der(der: &[u8]) -> Option<Validity> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        rest.is_empty().then(|| Validity {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

/// What is remembered of a connection's certificate: enough to decide every later request on that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The hash that tokens are bound to
    pub thumbprint: Thumbprint,
    /// The dates; `None` where they were not asked for or the certificate does not parse
    pub validity: Option<Validity>,
}

impl Identity {
    /// Of exact DER bytes; the dates are read only if `with_validity`.
    pub fn of_der(der: &[u8], with_validity: bool) -> Identity {
        Identity {
            thumbprint: Thumbprint::of_der(der),
            validity: if with_validity { Validity::of_der(der) } else { None },
        }
    }
}

/// A client certificate as the host has it.
#[derive(Clone, Copy, Debug)]
pub enum ClientCertificate<'a> {
    /// The connection has none.
    Absent,
    /// DER, as the TLS library gives it.
    Der(&'a [u8]),
    /// One PEM block, as nginx's `$ssl_client_raw_cert` gives it.
    Pem(&'a [u8]),
    /// Known since an earlier request of the same connection.
    Known(&'a Identity),
}

impl<'a> ClientCertificate<'a> {
    /// The exact DER octets, for the two forms that carry them.
    ///
    /// # Errors
    /// The certificate is too large, or not exactly one.
    pub fn der(self) -> Result<Option<Cow<'a, [u8]>>, CertificateError> {
        let der = match self {
            ClientCertificate::Absent | ClientCertificate::Known(_) => return Ok(None),
            ClientCertificate::Der(der) => Cow::Borrowed(der),
            ClientCertificate::Pem(pem) => Cow::Owned(der_of_pem(pem)?),
        };
        check_der(&der)?;
        Ok(Some(der))
    }
}

/// Finds the form of a certificate file: PEM if it begins like one, else DER.
pub fn sniff(bytes: &[u8]) -> ClientCertificate<'_> {
    if bytes.starts_with(b"-----") { ClientCertificate::Pem(bytes) } else { ClientCertificate::Der(bytes) }
}

fn der_of_pem(pem: &[u8]) -> Result<Vec<u8>, CertificateError> {
    if pem.len() > MAX_PEM {
        return Err(CertificateError::TooLarge);
    }
    // nginx writes LF and a last newline; $ssl_client_cert also indents with tabs, and files come with CRLF.
    let body = pem
        .strip_prefix(BEGIN)
        .and_then(|rest| {
            let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
            let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
            rest.strip_suffix(END)
        })
        .filter(|body| matches!(body, [b'\n', ..] | [b'\r', b'\n', ..]))
        .ok_or(CertificateError::NotOnePem)?;
    let mut base64 = Vec::with_capacity(body.len());
    base64.extend(body.iter().filter(|c| !matches!(c, b'\n' | b'\r' | b'\t' | b' ')));
    STANDARD.decode(&base64).map_err(|_| {
        // A second block puts its boundary lines into the body.
        if base64.contains(&b'-') { CertificateError::NotOnePem } else { CertificateError::Base64 }
    })
}

/// One SEQUENCE of a definite length that ends where the input ends: no second certificate, no trailing octets.
fn check_der(der: &[u8]) -> Result<(), CertificateError> {
    if der.len() > MAX_DER {
        return Err(CertificateError::TooLarge);
    }
    let [0x30, first, rest @ ..] = der else {
        return Err(CertificateError::NotOneDer);
    };
    let content = match first {
        0..=0x7f => Some((usize::from(*first), rest)),
        // MAX_DER needs two octets; more would only be leading zeros.
        0x81 => rest.split_first().map(|(a, rest)| (usize::from(*a), rest)),
        0x82 => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest)),
        _ => None,
    };
    match content {
        Some((length, rest)) if length == rest.len() && length > 0 => Ok(()),
        _ => Err(CertificateError::NotOneDer),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RFC 8705 appendix A.
    pub(crate) const RFC8705_PEM: &str = "-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
-----END CERTIFICATE-----
";
    const RFC8705_X5T: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

    fn thumbprint(pem: &str) -> Result<String, CertificateError> {
        let certificate = ClientCertificate::Pem(pem.as_bytes());
        Ok(Thumbprint::of_der(&certificate.der()?.expect("carried")).to_string())
    }

    fn der() -> Vec<u8> {
        der_of_pem(RFC8705_PEM.as_bytes()).expect("valid")
    }

    #[test]
    fn rfc8705_3_1_c_the_certificate_of_appendix_a_has_its_thumbprint() {
        assert_eq!(thumbprint(RFC8705_PEM).as_deref(), Ok(RFC8705_X5T));
    }

    #[test]
    fn rfc8705_3_1_c_line_ends_and_indentation_do_not_change_the_hash() {
        let crlf = RFC8705_PEM.replace('\n', "\r\n");
        let indented = RFC8705_PEM.trim_end().replace('\n', "\n\t");
        let one_line = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", STANDARD.encode(der()));
        for pem in [&crlf, &indented, &one_line, RFC8705_PEM.trim_end()] {
            assert_eq!(thumbprint(pem).as_deref(), Ok(RFC8705_X5T), "{pem}");
        }
    }

    #[test]
    fn exactly_one_certificate_nothing_before_or_behind() {
        let twice = RFC8705_PEM.repeat(2);
        for (pem, error) in [
            (format!(" {RFC8705_PEM}"), CertificateError::NotOnePem),
            (format!("subject=CN=x\n{RFC8705_PEM}"), CertificateError::NotOnePem),
            (format!("\u{feff}{RFC8705_PEM}"), CertificateError::NotOnePem),
            (format!("{RFC8705_PEM}\n"), CertificateError::NotOnePem),
            (format!("{RFC8705_PEM}x"), CertificateError::NotOnePem),
            (twice, CertificateError::NotOnePem),
            (RFC8705_PEM.replace("CERTIFICATE", "X509 CERTIFICATE"), CertificateError::NotOnePem),
            (RFC8705_PEM.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), CertificateError::NotOnePem),
            (
                RFC8705_PEM.replace("-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----"),
                CertificateError::NotOnePem,
            ),
            (RFC8705_PEM.replace("SY=", "SY"), CertificateError::Base64),
            (RFC8705_PEM.replace("MIIB", "MII*"), CertificateError::Base64),
            (RFC8705_PEM.replace("MIIB", "MII\0"), CertificateError::Base64),
            (String::new(), CertificateError::NotOnePem),
            ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".into(), CertificateError::NotOneDer),
            ("-----BEGIN CERTIFICATE----------END CERTIFICATE-----\n".into(), CertificateError::NotOnePem),
        ] {
            assert_eq!(thumbprint(&pem), Err(error), "{pem:?}");
        }
    }

    #[test]
    fn der_ends_where_the_certificate_ends() {
        let good = der();
        assert_eq!(check_der(&good), Ok(()));
        let mut longer = good.clone();
        longer.push(0);
        let shorter = &good[..good.len() - 1];
        let twice = good.repeat(2);
        for bad in [
            &longer[..],
            shorter,
            &twice,
            &good[1..],
            &[],
            &[0x30],
            &[0x30, 0],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x84, 0, 0, 0, 1, 0],
        ] {
            assert_eq!(check_der(bad), Err(CertificateError::NotOneDer), "{bad:02x?}");
        }
    }

    #[test]
    fn a_certificate_of_more_than_16_kib_is_refused() {
        let sized = |octets: usize| {
            let content = octets - 4;
            let mut der = vec![0x30, 0x82, (content >> 8) as u8, content as u8];
            der.resize(octets, 0);
            der
        };
        assert_eq!(check_der(&sized(MAX_DER)), Ok(()));
        assert_eq!(check_der(&sized(MAX_DER + 1)), Err(CertificateError::TooLarge));
        let pem =
            |der: &[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
        assert!(thumbprint(&pem(&sized(MAX_DER))).is_ok());
        assert_eq!(thumbprint(&pem(&sized(MAX_DER + 1))), Err(CertificateError::TooLarge));
        assert_eq!(thumbprint(&pem(&vec![0; 2 * MAX_DER])), Err(CertificateError::TooLarge));
    }

    #[test]
    fn the_thumbprint_does_not_need_the_certificate_to_parse() {
        let not_x509 = [0x30, 3, 2, 1, 0];
        let identity = Identity::of_der(&not_x509, true);
        assert_eq!(identity.thumbprint, Thumbprint::of_der(&not_x509));
        assert_eq!(identity.validity, None);
    }

    #[test]
    fn validity_is_read_from_the_certificate() {
        let validity = Validity::of_der(&der()).expect("parses");
        assert_eq!((validity.not_before, validity.not_after), (1_539_866_229, 1_651_495_029));
    }
}
