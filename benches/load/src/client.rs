//! Connections to nginx: TLS 1.3 with a client certificate, kept alive.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Fallible;

/// A client that trusts the certificate `server` and shows the one called `name`, both of the directory.
pub(crate) fn config(pki: &Path, server: &str, name: &str) -> Fallible<Arc<ClientConfig>> {
    let certificate = |name: &str| CertificateDer::from_pem_file(pki.join(format!("{name}.crt")));
    let mut roots = RootCertStore::empty();
    roots.add(certificate(server)?)?;
    let key = PrivateKeyDer::from_pem_file(pki.join(format!("{name}.key")))?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(name)?], key)?;
    Ok(Arc::new(config))
}

pub(crate) fn certificate(pki: &Path, name: &str) -> Fallible<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_file(pki.join(format!("{name}.crt")))?)
}

pub(crate) struct Connection {
    socket: TcpStream,
    tls: ClientConnection,
    received: Vec<u8>,
}

/// A response: its status, and how many bytes it has with its body.
fn parse(received: &[u8]) -> Fallible<Option<(u16, usize)>> {
    let Some(head) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&received[..head])?;
    let status = text.get(9..12).ok_or("a response without a status")?.parse()?;
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .ok_or_else(|| format!("a response without Content-Length: {text}"))?;
    let end = head + 4 + length.parse::<usize>()?;
    Ok((received.len() >= end).then_some((status, end)))
}

impl Connection {
    pub(crate) fn open(config: &Arc<ClientConfig>, port: u16, host: &str) -> Fallible<Connection> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut tls = ClientConnection::new(config.clone(), ServerName::try_from(host.to_owned())?)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Connection { socket, tls, received: Vec::with_capacity(4096) })
    }

    pub(crate) fn fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Fallible<()> {
        self.tls.writer().write_all(request)?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Reads what is there, once. Then the status of a response that is complete.
    pub(crate) fn receive(&mut self) -> Fallible<Option<u16>> {
        if self.tls.read_tls(&mut self.socket)? == 0 {
            return Err("nginx closed the connection".into());
        }
        self.tls.process_new_packets()?;
        let mut part = [0; 4096];
        loop {
            match self.tls.reader().read(&mut part) {
                Ok(0) => return Err("nginx ended the connection".into()),
                Ok(length) => self.received.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let Some((status, end)) = parse(&self.received)? else { return Ok(None) };
        if end != self.received.len() {
            return Err("more than was asked for".into());
        }
        Ok(Some(status))
    }

    /// Forgets the response that was received.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
    }

    /// One request and its response: status and body.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Fallible<(u16, String)> {
        self.send(request)?;
        let status = loop {
            if let Some(status) = self.receive()? {
                break status;
            }
        };
        let text = String::from_utf8_lossy(&self.received).into_owned();
        self.clear();
        Ok((status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    }
}
