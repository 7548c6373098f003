//! One request, as a flow keeps it.

use crate::binding::Scheme;
use crate::cert::Identity;
use crate::engine::http::Http;
use crate::engine::{Request, Shown};
use crate::reason::Reason;

/// Longest `Host` that is compared with anything.
const MAX_HOST: usize = 255;

/// What of a request is still needed when its first call is over.
pub(super) struct Visit {
    pub(super) identity: Result<Option<Identity>, Reason>,
    pub(super) early_data: bool,
    /// How the `Authorization` header sends a token
    pub(super) scheme: Scheme,
    /// That token, and the proof
    pub(super) shown: Result<Shown, Reason>,
    pub(super) authorization: Vec<u8>,
    pub(super) method: Vec<u8>,
    /// In lower case, without the port of https
    pub(super) host: String,
    pub(super) target: Vec<u8>,
    pub(super) cookie: Vec<u8>,
    pub(super) refresh_token: Vec<u8>,
    pub(super) form: Vec<u8>,
    origin: Vec<u8>,
    fetch_site: Vec<u8>,
    is_page: bool,
}

impl Visit {
    pub(super) fn of(
        request: &Request<'_>,
        identity: Result<Option<Identity>, Reason>,
        shown: Result<Shown, Reason>,
    ) -> Visit {
        let http = request.http.copied().unwrap_or_default();
        let host = String::from_utf8_lossy(http.host).to_ascii_lowercase();
        Visit {
            identity,
            early_data: request.early_data,
            scheme: request.scheme(),
            shown,
            authorization: request.authorization.unwrap_or_default().to_vec(),
            method: http.method.to_vec(),
            host: host.strip_suffix(":443").unwrap_or(&host).chars().take(MAX_HOST).collect(),
            target: http.target.to_vec(),
            cookie: http.cookie.to_vec(),
            refresh_token: http.refresh_token.to_vec(),
            form: http.form.to_vec(),
            origin: http.origin.to_vec(),
            fetch_site: http.fetch_site.to_vec(),
            is_page: is_page(&http),
        }
    }

    pub(super) fn path(&self) -> &[u8] {
        self.target.split(|c| *c == b'?').next().unwrap_or_default()
    }

    pub(super) fn query(&self) -> &[u8] {
        match memchr::memchr(b'?', &self.target) {
            Some(at) => self.target.get(at.saturating_add(1)..).unwrap_or_default(),
            None => b"",
        }
    }

    /// Whether a person is to see the answer, and no program.
    pub(super) fn is_page(&self) -> bool {
        self.is_page
    }

    /// Whether the browser may be sent elsewhere, and back again: what else a request would do is not lost by it.
    pub(super) fn is_navigation(&self) -> bool {
        self.is_page && self.method == b"GET"
    }

    /// Whether another site made the browser send this. A client that says nothing of that is no browser of this decade: then the
    /// cookie's `SameSite` decides, which older ones know.
    pub(super) fn is_cross_site(&self) -> bool {
        match self.fetch_site.as_slice() {
            b"same-origin" | b"none" => false,
            b"" => {
                let own = ["https://", self.host.as_str()].concat();
                !self.origin.is_empty() && !self.origin.eq_ignore_ascii_case(own.as_bytes())
            }
            _ => true,
        }
    }
}

/// A navigation of the top level by what the browser says (Fetch Metadata); of one that says nothing, what asks for HTML.
fn is_page(http: &Http<'_>) -> bool {
    match http.fetch_mode {
        b"navigate" => matches!(http.fetch_dest, b"" | b"document"),
        b"" => http.accept.split(|c| *c == b',').any(|range| {
            let media_type = range.split(|c| *c == b';').next().unwrap_or_default().trim_ascii();
            media_type.eq_ignore_ascii_case(b"text/html")
        }),
        _ => false,
    }
}
