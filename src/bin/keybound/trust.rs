//! The engine's TLS profiles, for rustls.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use keybound::engine::TlsProfile;
#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as backend;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as backend;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use zeroize::Zeroizing;

use crate::files;

/// What rustls needs to know of a profile.
///
/// # Errors
/// A file that cannot be read or used: that is a matter of this machine, not of the authorization server.
pub(crate) fn config(profile: &TlsProfile) -> Result<ClientConfig, String> {
    let provider = Arc::new(backend::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = if profile.verify {
        builder.with_root_certificates(roots(profile.trusted.as_deref())?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    };
    let mut config = match (&profile.certificate, &profile.private_key) {
        (Some(certificate), Some(key)) => {
            let name = format!("client_certificates.{}", profile.name.as_deref().unwrap_or_default());
            let chain = certificates(certificate, &format!("{name}.certificate"))?;
            let key = private_key(key, &format!("{name}.private_key"))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| match e {
                Error::InconsistentKeys(_) => format!("{name}: private_key is not that of the certificate"),
                e => format!("{name}: {e}"),
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    // Each connection shows all that there is to see.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// PEM, as it is given or in a file; and what to call it.
fn pem<'a>(given: &'a str, option: &str) -> Result<(Cow<'a, [u8]>, String), String> {
    if given.starts_with("-----BEGIN") {
        return Ok((Cow::Borrowed(given.as_bytes()), option.to_owned()));
    }
    let bytes = files::read(Path::new(given)).map_err(|e| format!("{option}: {e}"))?;
    Ok((Cow::Owned(bytes), format!("{option}: {given}")))
}

fn certificates(given: &str, option: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let (bytes, what) = pem(given, option)?;
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("{what}: not certificates in PEM")),
    }
}

fn private_key(given: &str, option: &str) -> Result<PrivateKeyDer<'static>, String> {
    let (bytes, what) = pem(given, option)?;
    let bytes = Zeroizing::new(bytes.into_owned());
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| match e {
        pem::Error::NoItemsFound => {
            format!("{what}: no private key in PEM that is not encrypted: PKCS#8, PKCS#1 or SEC 1")
        }
        // Whatever else is wrong with it: none of it is shown.
        _ => format!("{what}: the PEM is malformed"),
    })
}

/// The CA certificates that vouch for servers: those given, else those of the system.
fn roots(trusted: Option<&str>) -> Result<RootCertStore, String> {
    const OPTION: &str = "ssl_trusted_certificate";
    let mut roots = RootCertStore::empty();
    let found = match trusted {
        Some(given) => certificates(given, OPTION)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (used, _) = roots.add_parsable_certificates(found);
    match (used, trusted) {
        (0, Some(_)) => Err(format!("{OPTION}: no certificate of a CA that can be used")),
        (0, None) => Err(format!("{OPTION}: required, since this system has no CA certificates of its own")),
        _ => Ok(roots),
    }
}

/// Takes any server for the right one: `ssl_verify` is false.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
