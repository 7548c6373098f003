//! What of an HTTP request a login, a session or a proof is decided from.

/// Borrowed from the host for one call; what a request does not have is empty.
#[derive(Clone, Copy, Default)]
pub struct Http<'a> {
    /// The method
    pub method: &'a [u8],
    /// `Host`, or `:authority`, with a port where it has one
    pub host: &'a [u8],
    /// Path and query as the client sent them
    pub target: &'a [u8],
    /// All `Cookie` headers, joined by `; `
    pub cookie: &'a [u8],
    /// `Accept`
    pub accept: &'a [u8],
    /// `Origin`
    pub origin: &'a [u8],
    /// `Sec-Fetch-Site`
    pub fetch_site: &'a [u8],
    /// `Sec-Fetch-Mode`
    pub fetch_mode: &'a [u8],
    /// `Sec-Fetch-Dest`
    pub fetch_dest: &'a [u8],
    /// `Refresh-Token`
    pub refresh_token: &'a [u8],
    /// The body of a form, where [`super::Engine::needs_form`] says so
    pub form: &'a [u8],
    /// `https` or `http`: that of the connection
    pub scheme: &'a [u8],
    /// The address at the other end of the connection, whatever headers say of it
    pub peer: &'a [u8],
    /// `DPoP`
    pub dpop: &'a [u8],
    /// How many `DPoP` headers came
    pub dpop_count: u32,
    /// `X-Forwarded-Proto`
    pub forwarded_proto: &'a [u8],
    /// `X-Forwarded-Host`
    pub forwarded_host: &'a [u8],
    /// `X-Forwarded-Port`
    pub forwarded_port: &'a [u8],
    /// `X-Forwarded-Prefix`
    pub forwarded_prefix: &'a [u8],
    /// What no other request has, where one request may be decided about more than once (internal redirects): its proof is then used once
    pub id: &'a [u8],
    /// What [`super::Granted::spent`] named when this very request was let through before; empty: nothing
    pub spent: &'a [u8],
}

/// The headers among these, and how several of one name become one. Several of what may come once become something that cannot be one.
pub const HEADERS: [(&str, &str); 12] = [
    ("cookie", "; "),
    ("accept", ", "),
    ("origin", ", "),
    ("sec-fetch-site", ", "),
    ("sec-fetch-mode", ", "),
    ("sec-fetch-dest", ", "),
    ("refresh-token", ", "),
    ("dpop", ", "),
    ("x-forwarded-proto", ", "),
    ("x-forwarded-host", ", "),
    ("x-forwarded-port", ", "),
    ("x-forwarded-prefix", ", "),
];
