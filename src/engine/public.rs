//! Under which URI the client addressed a request: what the operator says, and for those that are trusted what their headers say.

use core::net::IpAddr;
use std::borrow::Cow;

use ipnet::IpNet;

use super::http::Http;
use crate::binding::dpop::uri;
use crate::reason::Reason;

/// The public side of the gateway.
pub(crate) struct Public {
    /// Authorities in normal form; empty: those that trusted proxies name
    pub(crate) authorities: Vec<String>,
    /// Before each path: a path without a slash at its end
    pub(crate) prefix: Option<String>,
    /// Proxies whose `X-Forwarded-*` are believed
    pub(crate) trusted: Vec<IpNet>,
    /// Likewise whoever comes over a UNIX socket
    pub(crate) trusts_unix: bool,
}

/// Where a request comes from and goes to, for tools: they have no connection to look at.
pub struct Address {
    scheme: String,
    host: String,
    target: String,
    /// A proxy that is trusted, if it comes by one
    peer: String,
}

impl Address {
    /// The parts of an absolute URL.
    pub(crate) fn of(url: &str) -> Option<Address> {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(end)?;
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|c| c.is_ascii_alphanumeric());
        if !is_scheme || host.is_empty() || url.bytes().any(|c| !c.is_ascii_graphic()) {
            return None;
        }
        // A fragment is not sent.
        let target = target.split('#').next().unwrap_or_default();
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some(Address {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            target: [slash, target].concat(),
            peer: String::new(),
        })
    }

    /// What a request there has of it.
    pub fn http(&self) -> Http<'_> {
        Http {
            scheme: self.scheme.as_bytes(),
            host: self.host.as_bytes(),
            target: self.target.as_bytes(),
            peer: self.peer.as_bytes(),
            // Of all but trusted proxies it is ignored.
            forwarded_host: self.host.as_bytes(),
            ..Http::default()
        }
    }
}

impl Public {
    /// The URI of a request in normal form, without query.
    ///
    /// # Errors
    /// It came over plain HTTP, or it is for no URI of this gateway.
    pub(crate) fn uri(&self, http: &Http<'_>) -> Result<String, Reason> {
        let is_trusted = self.trusts(http.peer);
        let forwarded = |header, own| match text(header) {
            Some(header) if is_trusted && !header.is_empty() => Some(header),
            _ => text(own),
        };
        if !forwarded(http.forwarded_proto, http.scheme).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            return Err(Reason::ProofOverPlainHttp);
        }
        let authority = match self.authorities.as_slice() {
            [one] => Some(Cow::from(one.as_str())),
            all => {
                let named = self.named(http, is_trusted);
                named.filter(|named| if all.is_empty() { is_trusted } else { all.contains(named) }).map(Cow::from)
            }
        };
        let prefix = match &self.prefix {
            Some(prefix) => Some(Cow::from(prefix.as_str())),
            // Many proxies leave this header as the client sent it: who names the origin names the prefix.
            None if is_trusted && self.authorities.is_empty() && !http.forwarded_prefix.is_empty() => {
                let path = text(http.forwarded_prefix).and_then(uri::path);
                path.map(|path| path.trim_end_matches('/').to_owned().into())
            }
            None => Some(Cow::default()),
        };
        // A request target is not empty and has no fragment (RFC 9112 §3.2): an upstream may take one for a part of the path.
        let is_target = |target: &&str| target.starts_with('/') && !target.contains('#');
        let path = text(http.target).filter(is_target).and_then(uri::path);
        match (authority, prefix, path) {
            (Some(authority), Some(prefix), Some(path)) => Ok(["https://", &authority, &prefix, &path].concat()),
            _ => Err(Reason::ProofUriMismatch),
        }
    }

    /// How the gateway gets a request for a public URL; `None` where that is not absolute, or not below the prefix. Where proxies name the
    /// origin it comes by one.
    pub(crate) fn address(&self, url: &str) -> Option<Address> {
        let mut address = Address::of(url)?;
        if let Some(prefix) = &self.prefix {
            let target = address.target.strip_prefix(prefix.as_str())?;
            let slash = match target.as_bytes().first() {
                Some(b'/') => "",
                None | Some(b'?') => "/",
                Some(_) => return None,
            };
            address.target = [slash, target].concat();
        }
        if self.authorities.is_empty() {
            address.peer = match self.trusted.first() {
                Some(net) => net.addr().to_string(),
                None => "unix:".to_owned(),
            };
        }
        Some(address)
    }

    /// The authority that the request names.
    fn named(&self, http: &Http<'_>, is_trusted: bool) -> Option<String> {
        if !is_trusted || http.forwarded_host.is_empty() {
            // Without any configured origin this would be whatever a client says.
            return if self.authorities.is_empty() { None } else { uri::authority(text(http.host)?) };
        }
        let host = text(http.forwarded_host)?;
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        match text(http.forwarded_port)? {
            port if port.is_empty() || has_port => uri::authority(host),
            port => uri::authority(&format!("{host}:{port}")),
        }
    }

    fn trusts(&self, peer: &[u8]) -> bool {
        let Some(peer) = text(peer) else {
            return false;
        };
        if peer.starts_with("unix:") {
            return self.trusts_unix;
        }
        // On a socket for both, IPv4 comes as IPv6.
        let trusts = |peer: IpAddr| self.trusted.iter().any(|net| net.contains(&peer.to_canonical()));
        !self.trusted.is_empty() && peer.parse().is_ok_and(trusts)
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
