//! HTTP/1.1 (RFC 9110, RFC 9112) without I/O: one request and its answer on a connection that the host owns.
//!
//! What two readers could frame differently is refused, not repaired: after a wrong end, the answer to one request
//! would be taken for the answer to the next.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use httparse::{EMPTY_HEADER, Header, Status};

/// Longest URL, in bytes.
const MAX_URL: usize = 8 * 1024;
/// Largest head of a response, and largest trailer section, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Most fields in either.
const MAX_FIELDS: usize = 64;
/// Longest line before a chunk: the size and its extensions.
const MAX_CHUNK_LINE: usize = 256;
/// Most interim responses (1xx) before the final one.
const MAX_INTERIM: u8 = 8;

/// Names that a caller may not set: they frame the request, or say what this module can read.
const OWN: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "expect",
    "accept-encoding",
    "user-agent",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
];

/// Why there is no request, or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// Not an absolute `https` URL that can be sent as it is.
    Url,
    /// A method or a header that cannot be sent.
    Header,
    /// The response is not HTTP/1.x, or its end is in doubt.
    Malformed,
    /// The response has more than the limits allow.
    TooLarge,
    /// The connection ended before the response.
    Truncated,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HttpError::Url => "invalid url",
            HttpError::Header => "invalid header",
            HttpError::Malformed => "malformed response",
            HttpError::TooLarge => "response too large",
            HttpError::Truncated => "truncated response",
        })
    }
}

impl std::error::Error for HttpError {}

/// Where an absolute `https` URL points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name in lower case, or an address; an IPv6 address in its canonical form, without brackets
    pub host: String,
    /// 443 where the URL has none
    pub port: u16,
    /// Path and query (origin-form, RFC 9112 §3.2.1), as written
    pub path: String,
}

impl Target {
    /// Splits a URL. Refused: other schemes, userinfo, fragment, port 0, anything that RFC 3986 has no place for, and
    /// IPv4 addresses in any form but four decimal numbers. Nothing is normalized but the host.
    pub fn parse(url: &str) -> Result<Target, HttpError> {
        Target::split(url).ok_or(HttpError::Url)
    }

    fn split(url: &str) -> Option<Target> {
        if url.len() > MAX_URL {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let (authority, path) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (address, port) = literal.split_once(']')?;
                let host = address.parse::<Ipv6Addr>().ok()?.to_string();
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => {
                let (host, port) =
                    authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
                (name(host)?, port)
            }
        };
        let port = match port {
            None => 443,
            Some(digits) if digits.starts_with('0') || !digits.bytes().all(|c| c.is_ascii_digit()) => return None,
            Some(digits) => digits.parse().ok()?,
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        sendable(path).then(|| Target { host, port, path: [slash, path].concat() })
    }

    /// The value of `Host` (RFC 9110 §7.2).
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

/// The authority of a URL, and its path and query, as they are written.
pub fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find(['/', '?']).and_then(|end| rest.split_at_checked(end)) {
        Some(parts) => parts,
        None => (rest, "/"),
    }
}

/// A host name, or four decimal numbers: `0x7f.1` and `127.1` mean an address to some resolvers and a name to others.
fn name(host: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return None;
    }
    let host = host.to_ascii_lowercase();
    let last = host.rsplit('.').next()?;
    let numeric = last.starts_with("0x") || last.bytes().all(|c| c.is_ascii_digit());
    (!numeric || host.parse::<Ipv4Addr>().is_ok()).then_some(host)
}

/// Whether these are the characters of a path and a query (RFC 3986 §3.3, §3.4).
fn sendable(path: &str) -> bool {
    let mut rest = path.bytes();
    while let Some(c) = rest.next() {
        let ok = match c {
            b'%' => [rest.next(), rest.next()].iter().all(|c| c.is_some_and(|c| c.is_ascii_hexdigit())),
            _ => c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&c),
        };
        if !ok {
            return false;
        }
    }
    true
}

/// Whether this is a token (RFC 9110 §5.6.2).
fn token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "without Done there is no answer"]
pub enum Progress {
    /// Receive again.
    More,
    /// The answer is complete.
    Done,
}

/// A complete response. A redirect is one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// HTTP status, 200 to 599
    pub status: u16,
    /// `Content-Type`, empty for none
    pub content_type: &'a [u8],
    /// `Retry-After`, empty for none
    pub retry_after: &'a [u8],
    /// The whole body
    pub body: &'a [u8],
}

/// What the next byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Status line and fields
    Head,
    /// A body with that many bytes to come, at least 1
    Length(usize),
    /// The line before a chunk
    ChunkSize,
    /// A chunk with that many bytes to come, at least 1
    Chunk(usize),
    /// The line end behind a chunk
    ChunkEnd,
    /// The fields behind the last chunk
    Trailer,
    /// A body up to the end of the connection
    UntilClose,
    Done,
    Failed(HttpError),
}

/// One request and its answer on a connection.
///
/// Holds no more of the response than its body, up to the limit, and one head.
pub struct Exchange {
    request: Vec<u8>,
    /// The answer has no body, whatever its fields say (RFC 9112 §6.3).
    is_head: bool,
    max_body: usize,
    state: State,
    lines: Lines,
    interim: u8,
    status: u16,
    content_type: Vec<u8>,
    retry_after: Vec<u8>,
    body: Vec<u8>,
    /// Whether the head, and what came behind the answer, leave the connection usable
    keep: bool,
}

impl Exchange {
    /// Makes a request.
    ///
    /// * `method`: in upper case, not `CONNECT`.
    /// * `url`: as [`Target::parse`] takes it.
    /// * `headers`: further ones, ASCII. Refused: `Host`, `Content-Length`, `Transfer-Encoding`, `Connection`,
    ///   `Expect`, `Accept-Encoding`, `User-Agent` and others of this kind, which are set here or never sent.
    /// * `body`: empty for none.
    /// * `max_body`: largest body of the answer, in bytes.
    pub fn new(
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
        max_body: usize,
    ) -> Result<Exchange, HttpError> {
        let target = Target::parse(url)?;
        // Behind CONNECT nothing is framed.
        if method.is_empty() || !method.bytes().all(|c| c.is_ascii_uppercase()) || method == "CONNECT" {
            return Err(HttpError::Header);
        }
        let mut request = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: keybound/{}\r\nAccept-Encoding: identity\r\n",
            target.path,
            target.authority(),
            crate::VERSION
        );
        for (name, value) in headers {
            let own = OWN.iter().any(|own| name.eq_ignore_ascii_case(own));
            if own || !token(name) || !value.bytes().all(|c| matches!(c, b'\t' | b' '..=b'~')) {
                return Err(HttpError::Header);
            }
            request.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        Ok(Exchange {
            request: [request.as_bytes(), body].concat(),
            is_head: method == "HEAD",
            max_body,
            state: State::Head,
            lines: Lines::default(),
            interim: 0,
            status: 0,
            content_type: Vec::new(),
            retry_after: Vec::new(),
            body: Vec::new(),
            keep: false,
        })
    }

    /// All bytes of the request, to be sent at once.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes bytes as they arrived, in pieces of any size. After an error every call is that error.
    pub fn received(&mut self, bytes: &[u8]) -> Result<Progress, HttpError> {
        self.take(bytes).map_err(|error| self.fail(error))
    }

    /// The peer closed the connection, which completes only a body that nothing else delimits. Not to be called for a
    /// connection that ended without `close_notify`: anyone on the way can do that (RFC 8446 §6.1).
    pub fn closed(&mut self) -> Result<Progress, HttpError> {
        self.keep = false;
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(Progress::Done)
            }
            State::Failed(error) => Err(error),
            _ => Err(self.fail(HttpError::Truncated)),
        }
    }

    /// The answer, once complete.
    pub fn answer(&self) -> Option<Answer<'_>> {
        (self.state == State::Done).then_some(Answer {
            status: self.status,
            content_type: &self.content_type,
            retry_after: &self.retry_after,
            body: &self.body,
        })
    }

    /// Whether the connection may carry another request, given that the whole request was sent: the answer is
    /// complete, HTTP/1.1 and delimited, the peer does not close, and not one byte came behind it. A byte that comes
    /// later says no as well: the host closes a connection that has something to read while nothing was asked.
    pub fn reusable(&self) -> bool {
        self.state == State::Done && self.keep
    }

    fn fail(&mut self, error: HttpError) -> HttpError {
        self.state = State::Failed(error);
        self.lines = Lines::default();
        self.body = Vec::new();
        error
    }

    fn take(&mut self, mut input: &[u8]) -> Result<Progress, HttpError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Done => {
                    // Nobody asked for these: an answer to the next request cannot come before it.
                    self.keep &= input.is_empty();
                    return Ok(Progress::Done);
                }
                _ if input.is_empty() => return Ok(Progress::More),
                State::Head => {
                    let first = self.lines.is_first();
                    match self.lines.next(&mut input, MAX_HEAD)? {
                        Some(b"") => self.state = self.head()?,
                        Some(line) if first && !line.starts_with(b"HTTP/1.") => return Err(HttpError::Malformed),
                        _ => {}
                    }
                }
                State::Length(left) => {
                    self.state = match self.take_body(&mut input, left)? {
                        0 => State::Done,
                        left => State::Length(left),
                    }
                }
                State::ChunkSize => {
                    if let Some(line) = self.lines.next(&mut input, MAX_CHUNK_LINE)? {
                        let size = chunk_size(line)?;
                        self.lines.clear();
                        self.state = match usize::try_from(size) {
                            Ok(0) => State::Trailer,
                            Ok(size) if size <= self.max_body.saturating_sub(self.body.len()) => State::Chunk(size),
                            _ => return Err(HttpError::TooLarge),
                        };
                    }
                }
                State::Chunk(left) => {
                    self.state = match self.take_body(&mut input, left)? {
                        0 => State::ChunkEnd,
                        left => State::Chunk(left),
                    }
                }
                State::ChunkEnd => {
                    if self.lines.next(&mut input, 2).map_err(|_| HttpError::Malformed)?.is_some() {
                        self.lines.clear();
                        self.state = State::ChunkSize;
                    }
                }
                State::Trailer => {
                    if self.lines.next(&mut input, MAX_HEAD)? == Some(b"") {
                        // Read for their form alone: nothing in a trailer may change what the head said.
                        httparse::parse_headers(&self.lines.bytes, &mut [EMPTY_HEADER; MAX_FIELDS]).map_err(refusal)?;
                        self.lines.clear();
                        self.state = State::Done;
                    }
                }
                State::UntilClose => {
                    self.take_body(&mut input, usize::MAX)?;
                }
            }
        }
    }

    /// Takes body bytes, `left` at the most. How many are still to come.
    fn take_body(&mut self, input: &mut &[u8], left: usize) -> Result<usize, HttpError> {
        let part = input.split_off(..left.min(input.len())).unwrap_or_default();
        let length = self.body.len().saturating_add(part.len());
        if length > self.max_body {
            return Err(HttpError::TooLarge);
        }
        if length > self.body.capacity() {
            // Doubles as a vector does, but not beyond the limit.
            let capacity = self.body.capacity().saturating_mul(2).min(self.max_body).max(length);
            self.body.reserve_exact(capacity.saturating_sub(self.body.len()));
        }
        self.body.extend_from_slice(part);
        Ok(left.saturating_sub(part.len()))
    }

    /// Reads the head, and says what follows it (RFC 9112 §6.3).
    fn head(&mut self) -> Result<State, HttpError> {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(&self.lines.bytes).map_err(refusal)?;
        let (Some(version), Some(status)) = (response.version, response.code) else {
            return Err(HttpError::Malformed);
        };
        let fields = Fields(response.headers);
        let (length, chunked) = (fields.content_length()?, fields.chunked()?);
        // Two lengths are an attack (§6.1), and HTTP/1.0 has no chunks.
        if parsed != Status::Complete(self.lines.bytes.len()) || chunked && (length.is_some() || version == 0) {
            return Err(HttpError::Malformed);
        }
        match status {
            // Nothing was asked that 101 could answer; an interim response never has a body (RFC 9110 §8.6).
            100 | 102..=199 if !chunked && length.is_none() && self.interim < MAX_INTERIM => {
                self.interim = self.interim.saturating_add(1);
                self.lines.clear();
                return Ok(State::Head);
            }
            200..=599 => {}
            _ => return Err(HttpError::Malformed),
        }
        if !fields.all("content-encoding").all(|v| v.eq_ignore_ascii_case(b"identity")) {
            return Err(HttpError::Malformed);
        }
        self.status = status;
        self.content_type = fields.single("content-type")?.unwrap_or_default().to_vec();
        self.retry_after = fields.single("retry-after")?.unwrap_or_default().to_vec();
        self.keep = version == 1 && !fields.closes();
        let state = if self.is_head || matches!(status, 204 | 304) {
            // A peer that announces a body may send it against the rules, and later than now.
            self.keep &= !chunked && length.is_none_or(|n| n == 0);
            State::Done
        } else if chunked {
            State::ChunkSize
        } else {
            match length.map(usize::try_from) {
                None => State::UntilClose,
                Some(Ok(0)) => State::Done,
                Some(Ok(length)) if length <= self.max_body => State::Length(length),
                Some(_) => return Err(HttpError::TooLarge),
            }
        };
        self.lines.clear();
        Ok(state)
    }
}

/// The lines of a head, of a trailer section, or before a chunk. Each ends with CRLF: a bare LF is a line end to some
/// readers and none to others (RFC 9112 §2.2). A bare CR is refused by who reads the line.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where the line that is not complete begins
    start: usize,
}

impl Lines {
    /// Takes bytes up to the next line end. The line without it, once complete.
    fn next(&mut self, input: &mut &[u8], limit: usize) -> Result<Option<&[u8]>, HttpError> {
        let end = memchr::memchr(b'\n', input);
        let length = end.map_or(input.len(), |at| at.saturating_add(1));
        let part = input.split_off(..length).unwrap_or_default();
        if part.len() > limit.saturating_sub(self.bytes.len()) {
            return Err(HttpError::TooLarge);
        }
        self.bytes.extend_from_slice(part);
        if end.is_none() {
            return Ok(None);
        }
        let line = self.bytes.get(self.start..).and_then(|line| line.strip_suffix(b"\r\n"));
        self.start = self.bytes.len();
        line.map(Some).ok_or(HttpError::Malformed)
    }

    fn is_first(&self) -> bool {
        self.start == 0
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

struct Fields<'h, 'b>(&'h [Header<'b>]);

impl<'b> Fields<'_, 'b> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The value of a field that may be there once.
    fn single(&self, name: &str) -> Result<Option<&'b [u8]>, HttpError> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() { Err(HttpError::Malformed) } else { Ok(value) }
    }

    /// `Content-Length`: digits. A list of equal ones is refused too (RFC 9112 §6.3 leaves the choice).
    fn content_length(&self) -> Result<Option<u64>, HttpError> {
        let Some(value) = self.single("content-length")? else { return Ok(None) };
        let digits = str::from_utf8(value).ok().filter(|v| v.bytes().all(|c| c.is_ascii_digit()));
        digits.and_then(|v| v.parse().ok()).map(Some).ok_or(HttpError::Malformed)
    }

    /// `Transfer-Encoding`: `chunked` alone, for no other coding was asked for.
    fn chunked(&self) -> Result<bool, HttpError> {
        match self.single("transfer-encoding")? {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"chunked") => Ok(true),
            Some(_) => Err(HttpError::Malformed),
        }
    }

    /// `Connection: close` (RFC 9112 §9.6).
    fn closes(&self) -> bool {
        self.all("connection")
            .flat_map(|value| value.split(|c| *c == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }
}

/// The size of a chunk (RFC 9112 §7.1): hexadecimal digits, then nothing or extensions, which are ignored.
fn chunk_size(line: &[u8]) -> Result<u64, HttpError> {
    let (digits, rest) =
        line.split_at_checked(line.iter().take_while(|c| c.is_ascii_hexdigit()).count()).unwrap_or_default();
    let extensions = rest.trim_ascii_start();
    let plain = rest.iter().all(|c| *c == b'\t' || !c.is_ascii_control());
    if !plain || !(rest.is_empty() || extensions.starts_with(b";")) {
        return Err(HttpError::Malformed);
    }
    str::from_utf8(digits).ok().and_then(|d| u64::from_str_radix(d, 16).ok()).ok_or(HttpError::Malformed)
}

fn refusal(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::TooLarge,
        _ => HttpError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_BODY: usize = 64;

    fn exchange(method: &str) -> Exchange {
        Exchange::new(method, "https://as.example/token", &[], b"", MAX_BODY).expect("valid")
    }

    /// An answer that a test can keep.
    #[derive(Clone, Debug, PartialEq)]
    struct Read {
        status: u16,
        content_type: String,
        retry_after: String,
        body: String,
        reusable: bool,
    }

    fn answer_of(exchange: &Exchange) -> Option<Read> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        exchange.answer().map(|a| Read {
            status: a.status,
            content_type: text(a.content_type),
            retry_after: text(a.retry_after),
            body: text(a.body),
            reusable: exchange.reusable(),
        })
    }

    /// Feeds the parts, then closes if nothing is complete.
    fn read<'p>(method: &str, parts: impl IntoIterator<Item = &'p [u8]>) -> Result<Read, HttpError> {
        let mut exchange = exchange(method);
        let mut progress = Progress::More;
        for part in parts {
            let next = exchange.received(part);
            let fits = exchange.body.capacity() <= MAX_BODY && exchange.lines.bytes.len() <= MAX_HEAD;
            assert!(fits, "memory is bounded");
            assert_eq!(next == Ok(Progress::Done), exchange.answer().is_some());
            assert!(exchange.answer().is_some() || !exchange.reusable());
            match next {
                Ok(next) => progress = next,
                Err(error) => {
                    assert!(exchange.answer().is_none() && !exchange.reusable());
                    assert_eq!(exchange.received(b"HTTP/1.1 204 No\r\n\r\n"), Err(error));
                    assert_eq!((exchange.closed(), exchange.received(b"")), (Err(error), Err(error)));
                    assert!(exchange.answer().is_none() && !exchange.reusable());
                    return Err(error);
                }
            }
        }
        assert_eq!(progress == Progress::Done, exchange.answer().is_some());
        if progress == Progress::More && exchange.closed()? == Progress::More {
            panic!("a closed connection has no more");
        }
        Ok(answer_of(&exchange).expect("done"))
    }

    fn get(response: &str) -> Result<Read, HttpError> {
        read("GET", [response.as_bytes()])
    }

    /// A response with these lines in its head, and what follows it.
    fn with(fields: &str, rest: &str) -> Result<Read, HttpError> {
        get(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n{rest}"))
    }

    fn body(result: Result<Read, HttpError>) -> Result<(String, bool), HttpError> {
        result.map(|r| (r.body, r.reusable))
    }

    fn ok(body: &str, reusable: bool) -> Result<(String, bool), HttpError> {
        Ok((body.into(), reusable))
    }

    fn chunked(rest: &str) -> Result<(String, bool), HttpError> {
        body(with("Transfer-Encoding: chunked\r\n", rest))
    }

    fn target(url: &str) -> Result<(String, u16, String), HttpError> {
        Target::parse(url).map(|t| (t.host, t.port, t.path))
    }

    fn headers(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_url_is_absolute_https_and_its_host_is_in_lower_case() {
        for (url, host, port, path) in [
            ("https://as.example", "as.example", 443, "/"),
            ("HTTPS://AS.Example/Token", "as.example", 443, "/Token"),
            ("https://as.example:8443/a/../b?x=%2F&y=a:b@c?/", "as.example", 8443, "/a/../b?x=%2F&y=a:b@c?/"),
            ("https://as.example?x=https://y", "as.example", 443, "/?x=https://y"),
            ("https://as_1:443/", "as_1", 443, "/"),
            ("https://127.0.0.1/", "127.0.0.1", 443, "/"),
            ("https://1.as2.example/", "1.as2.example", 443, "/"),
            ("https://[::1]/x", "::1", 443, "/x"),
            ("https://[2001:DB8:0::1]:8443?x", "2001:db8::1", 8443, "/?x"),
            ("https://as.example:65535/", "as.example", 65535, "/"),
        ] {
            assert_eq!(target(url), Ok((host.to_owned(), port, path.to_owned())), "{url}");
        }
        for url in [
            "",
            "https",
            "https:",
            "https://",
            "https:///path",
            "https:as.example",
            "//as.example/",
            "/path",
            "http://as.example/",
            "ftp://as.example/",
            " https://as.example/",
            "https://as.example/ ",
            "https://user@as.example/",
            "https://user:secret@as.example/",
            "https://@as.example/",
            "https://as.example/#fragment",
            "https://as.example#",
            "https://as.example#@evil.example/",
            "https://as.example\\@evil.example/",
            "https://as.example/a b",
            "https://as.example/a\tb",
            "https://as.example/a\r\nX: y",
            "https://as.example/\0",
            "https://as.example/\u{7f}",
            "https://as.example/é",
            "https://é.example/",
            "https://as%2eexample/",
            "https://as.example/%",
            "https://as.example/%2",
            "https://as.example/%zz",
            "https://as.example/a|b",
            "https://as.example:/",
            "https://as.example:0/",
            "https://as.example:0443/",
            "https://as.example:+443/",
            "https://as.example:65536/",
            "https://as.example:443:443/",
            "https://as..example/",
            "https://.as.example/",
            "https://as.example./",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://127.0.0.0x1/",
            "https://0127.0.0.1/",
            "https://256.0.0.1/",
            "https://::1/",
            "https://[::1/",
            "https://[::1]x/",
            "https://[::1]:/",
            "https://[::1]:0/",
            "https://[fe80::1%25eth0]/",
            "https://[as.example]/",
            "https://[127.0.0.1]/",
            "https://[]/",
        ] {
            assert_eq!(target(url), Err(HttpError::Url), "{url:?}");
            assert_eq!(Exchange::new("GET", url, &[], b"", 0).err(), Some(HttpError::Url), "{url:?}");
        }
        let long = |n: usize| format!("https://a/{}", "x".repeat(n - 10));
        assert!(target(&long(MAX_URL)).is_ok());
        assert!(target(&long(MAX_URL + 1)).is_err());
        let label = |n: usize| format!("https://{}/", "x".repeat(n));
        assert!(target(&label(63)).is_ok());
        assert!(target(&label(64)).is_err());
        let name = |last: usize| format!("https://{0}.{0}.{0}.{1}/", "x".repeat(63), "x".repeat(last));
        assert!(target(&name(61)).is_ok());
        assert!(target(&name(62)).is_err());
    }

    #[test]
    fn a_url_is_its_authority_and_its_target_as_they_are_written() {
        for (url, authority, target) in [
            ("https://as.example", "as.example", "/"),
            ("HTTPS://AS.Example:443/Token", "AS.Example:443", "/Token"),
            ("https://as.example:8443/a/../b?x=%2F&y=a:b@c?/", "as.example:8443", "/a/../b?x=%2F&y=a:b@c?/"),
            ("https://as.example/?x=https://y", "as.example", "/?x=https://y"),
            ("https://as.example?x=/https://y", "as.example", "?x=/https://y"),
            ("https://[2001:DB8:0::1]:8443/x", "[2001:DB8:0::1]:8443", "/x"),
        ] {
            assert!(Target::parse(url).is_ok());
            assert_eq!(super::split(url), (authority, target), "{url}");
        }
    }

    #[test]
    fn a_request_has_its_own_lines_then_those_of_the_caller() {
        let own = format!("User-Agent: keybound/{}\r\nAccept-Encoding: identity\r\n", crate::VERSION);
        let request = |method: &str, url: &str, fields: &[(&str, &str)], body: &str| {
            let exchange = Exchange::new(method, url, &headers(fields), body.as_bytes(), 0).expect("valid");
            String::from_utf8(exchange.request().to_vec()).expect("text")
        };
        assert_eq!(
            request("GET", "https://AS.example:443/jwks?a=b", &[("Accept", "application/jwk-set+json")], ""),
            format!("GET /jwks?a=b HTTP/1.1\r\nHost: as.example\r\n{own}Accept: application/jwk-set+json\r\n\r\n")
        );
        assert_eq!(
            request("POST", "https://[::1]:8443", &[], "token=\r\nx"),
            format!("POST / HTTP/1.1\r\nHost: [::1]:8443\r\n{own}Content-Length: 9\r\n\r\ntoken=\r\nx")
        );
        assert_eq!(
            request("POST", "https://[::1]/", &[], ""),
            format!("POST / HTTP/1.1\r\nHost: [::1]\r\n{own}Content-Length: 0\r\n\r\n")
        );
        assert_eq!(
            request("HEAD", "https://a:8443/", &[], ""),
            format!("HEAD / HTTP/1.1\r\nHost: a:8443\r\n{own}\r\n")
        );
    }

    #[test]
    fn a_header_that_frames_or_splits_the_request_is_refused() {
        let new = |method: &str, name: &str, value: &str| {
            Exchange::new(method, "https://as.example/", &headers(&[(name, value)]), b"", 0).map(|_| ())
        };
        assert_eq!(new("GET", "Authorization", "Basic YTpi"), Ok(()));
        assert_eq!(new("GET", "X-Empty", ""), Ok(()));
        assert_eq!(new("GET", "x_!#$%&'*+-.^`|~9", "\t ~"), Ok(()));
        for name in OWN {
            assert_eq!(new("GET", name, "x"), Err(HttpError::Header), "{name}");
            assert_eq!(new("GET", &name.to_uppercase(), "x"), Err(HttpError::Header), "{name}");
        }
        for name in ["", " ", "A B", "A:", "A\r\nB", "A\0", "é", " Host", "Host ", "(a)"] {
            assert_eq!(new("GET", name, "x"), Err(HttpError::Header), "{name:?}");
        }
        for value in ["a\r\nHost: b", "a\n", "\r", "\0", "\u{1b}", "\u{7f}", "é"] {
            assert_eq!(new("GET", "A", value), Err(HttpError::Header), "{value:?}");
        }
        for method in ["", "get", "GET ", "G\r\nT", "CONNECT", "É"] {
            assert_eq!(new(method, "A", "b"), Err(HttpError::Header), "{method:?}");
        }
    }

    #[test]
    fn a_response_may_arrive_one_byte_at_a_time() {
        for response in [
            "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-type:a/b \r\ntransfer-encoding: Chunked\r\n\r\n3;x=\"y\"\r\nhel\r\n02\r\nlo\r\n0\r\nT: u\r\n\r\n",
        ] {
            let expected = Read {
                status: 200,
                content_type: "a/b".into(),
                retry_after: String::new(),
                body: "hello".into(),
                reusable: true,
            };
            assert_eq!(get(response).as_ref(), Ok(&expected));
            assert_eq!(read("GET", response.as_bytes().chunks(1)).as_ref(), Ok(&expected));
            for end in 0..response.len() {
                assert_eq!(get(&response[..end]), Err(HttpError::Truncated), "{end}");
            }
        }
    }

    #[test]
    fn a_redirect_and_a_failure_are_answers() {
        let answer = get("HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer.map(|a| (a.status, a.reusable)), Ok((302, true)));
        let answer = get("HTTP/1.1 503\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}").expect("complete");
        assert_eq!((answer.status, &*answer.retry_after, &*answer.body), (503, "7", "{}"));
    }

    #[test]
    fn rfc9110_15_2_a_up_to_8_interim_responses_are_skipped() {
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Type: a/b\r\nConnection: close\r\n\r\n";
        let answer = get(&(interim.repeat(8) + last)).expect("bounded");
        assert_eq!((answer.status, &*answer.content_type, &*answer.body, answer.reusable), (200, "", "ok", true));
        assert_eq!(get(&(interim.repeat(9) + last)), Err(HttpError::Malformed));
        for interim in [
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(get(&(interim.to_owned() + last)), Err(HttpError::Malformed), "{interim}");
        }
        assert_eq!(get(interim), Err(HttpError::Truncated));
    }

    #[test]
    fn rfc9112_7_1_a_chunks_have_extensions_and_trailers() {
        for rest in [
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a\r\nhello\r\n0;b=c\r\n\r\n",
            "5 ; a = \"b c\"\r\nhello\r\n000\r\n\r\n",
            "1\r\nh\r\n4\r\nello\r\n0\r\nA: b\r\nContent-Length: 9\r\nContent-Type: c/d\r\n\r\n",
        ] {
            assert_eq!(chunked(rest), ok("hello", true), "{rest:?}");
        }
        assert_eq!(chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), ok("01234567890123456789", true));
        let extension = |n: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(n - 4));
        assert_eq!(chunked(&extension(MAX_CHUNK_LINE)), ok("hello", true));
        assert_eq!(chunked(&extension(MAX_CHUNK_LINE + 1)), Err(HttpError::TooLarge));
    }

    #[test]
    fn a_bad_chunk_is_malformed() {
        assert_eq!(chunked("5\r\nhello\r\n0\r\n\r\n"), ok("hello", true));
        for rest in [
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5_\r\nhello\r\n0\r\n\r\n",
            "g\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5;\ra\r\nhello\r\n0\r\n\r\n",
            "5;\0\r\nhello\r\n0\r\n\r\n",
            "5\x0b;\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "10000000000000000\r\nhello\r\n0\r\n\r\n",
            "100000000000000005\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nno field\r\n\r\n",
            "5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
            "5\r\nhello\r\n0\r\nA: b\n\r\n",
        ] {
            assert_eq!(chunked(rest), Err(HttpError::Malformed), "{rest:?}");
        }
        assert_eq!(chunked("ffffffffffffffff\r\nhello"), Err(HttpError::TooLarge));
        assert_eq!(chunked("5\r\nhello\r\n0\r\n"), Err(HttpError::Truncated));
        let trailer = |fields: usize, length: usize| {
            let value = "x".repeat(length);
            format!("5\r\nhello\r\n0\r\n{}\r\n", format!("A: {value}\r\n").repeat(fields))
        };
        assert_eq!(chunked(&trailer(64, 1)), ok("hello", true));
        assert_eq!(chunked(&trailer(65, 1)), Err(HttpError::TooLarge));
        assert_eq!(chunked(&trailer(1, MAX_HEAD - 7)), ok("hello", true));
        assert_eq!(chunked(&trailer(1, MAX_HEAD - 6)), Err(HttpError::TooLarge));
    }

    #[test]
    fn rfc9112_6_3_a_one_length_in_digits() {
        for (fields, result) in [
            ("Content-Length: 5\r\n", ok("hello", true)),
            ("Content-Length: 00000000000000000000005\r\n", ok("hello", true)),
            ("Content-Length: 0\r\n", ok("", false)),
            ("Content-Length:\r\n", Err(HttpError::Malformed)),
            ("Content-Length: -5\r\n", Err(HttpError::Malformed)),
            ("Content-Length: +5\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 5.0\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 0x5\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 5 5\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 5, 5\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 5\r\ncontent-length: 5\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 18446744073709551615\r\n", Err(HttpError::TooLarge)),
            ("Content-Length: 18446744073709551616\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 18446744073709551621\r\n", Err(HttpError::Malformed)),
            ("Content-Length: 6\r\n", Err(HttpError::Truncated)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(HttpError::Malformed)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(HttpError::Malformed)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(HttpError::Malformed)),
            ("Transfer-Encoding: chunked, identity\r\n", Err(HttpError::Malformed)),
            ("Transfer-Encoding: identity\r\n", Err(HttpError::Malformed)),
            ("Transfer-Encoding: xchunked\r\n", Err(HttpError::Malformed)),
            ("Transfer-Encoding:\r\n", Err(HttpError::Malformed)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(HttpError::Malformed)),
        ] {
            assert_eq!(body(with(fields, "hello")), result, "{fields}");
        }
    }

    #[test]
    fn rfc9112_5_2_a_a_field_is_one_line_that_ends_with_crlf() {
        assert_eq!(body(with("A: b\r\nContent-Length: 5\r\n", "hello")), ok("hello", true));
        for fields in [
            "A: b\r\n c\r\n",
            "A: b\r\n\tc\r\n",
            " A: b\r\n",
            "A : b\r\n",
            "A\r\n",
            ": b\r\n",
            "A: b\nB: c\r\n",
            "A: b\n\r\n",
            "A: b\rB: c\r\n",
            "A: b\r\r\n",
            "A: \0\r\n",
            "A: \x1b\r\n",
            "A\0: b\r\n",
            "\n",
        ] {
            let fields = format!("{fields}Content-Length: 5\r\n");
            assert_eq!(body(with(&fields, "hello")), Err(HttpError::Malformed), "{fields:?}");
        }
        assert_eq!(get("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), Err(HttpError::Malformed));
    }

    #[test]
    fn a_status_line_is_http_1_from_the_first_byte_on() {
        let line = |line: &str| get(&format!("{line}\r\nContent-Length: 0\r\n\r\n")).map(|r| r.status);
        for (text, status) in [("HTTP/1.1 200 OK", 200), ("HTTP/1.1 599 ", 599), ("HTTP/1.1 404", 404)] {
            assert_eq!(line(text), Ok(status), "{text}");
        }
        for text in [
            "",
            "\r\nHTTP/1.1 200 OK",
            "\nHTTP/1.1 200 OK",
            " HTTP/1.1 200 OK",
            "HTTP/1.2 200 OK",
            "HTTP/2.0 200 OK",
            "HTTP/0.9 200 OK",
            "http/1.1 200 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 OK",
            "HTTP/1.1 600 OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1 200OK",
            "HTTP/1.1 200 O\0K",
            "HTTP/1.1 200 O\rK",
            "HTTP/1.1 200\rK",
            "HTTP/1.1 200 OK\r",
            "SSH-2.0-x",
        ] {
            assert_eq!(line(text), Err(HttpError::Malformed), "{text:?}");
        }
        // Without waiting for the rest of what is no HTTP.
        assert_eq!(exchange("GET").received(b"SSH-2.0-x\r\n"), Err(HttpError::Malformed));
    }

    #[test]
    fn a_head_has_at_most_16_kib_and_64_fields() {
        let head = |length: usize| {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: \r\n\r\n";
            head.replace("A: ", &format!("A: {}", "x".repeat(length - head.len())))
        };
        assert_eq!(head(MAX_HEAD).len(), MAX_HEAD);
        assert_eq!(body(get(&head(MAX_HEAD))), ok("", true));
        assert_eq!(get(&head(MAX_HEAD + 1)), Err(HttpError::TooLarge));
        assert_eq!(body(with(&("A: b\r\n".repeat(63) + "Content-Length: 0\r\n"), "")), ok("", true));
        assert_eq!(with(&("A: b\r\n".repeat(64) + "Content-Length: 0\r\n"), ""), Err(HttpError::TooLarge));
        let mut endless = exchange("GET");
        assert_eq!(endless.received(&vec![b'x'; MAX_HEAD]), Ok(Progress::More));
        assert_eq!(endless.received(b"x"), Err(HttpError::TooLarge));
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused_at_once() {
        let full = "x".repeat(MAX_BODY);
        assert_eq!(body(with("Content-Length: 64\r\n", &full)), ok(&full, true));
        assert_eq!(body(with("", &full)), ok(&full, false));
        assert_eq!(chunked(&format!("40\r\n{full}\r\n0\r\n\r\n")), ok(&full, true));
        assert_eq!(chunked(&format!("3f\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", &full[1..])), ok(&full, true));
        // Before a byte of the body came.
        assert_eq!(with("Content-Length: 65\r\n", ""), Err(HttpError::TooLarge));
        assert_eq!(chunked("41\r\n"), Err(HttpError::TooLarge));
        assert_eq!(chunked(&format!("40\r\n{full}\r\n1\r\n")), Err(HttpError::TooLarge));
        assert_eq!(with("", &format!("{full}x")), Err(HttpError::TooLarge));

        let head: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks: Vec<&[u8]> = [head].into_iter().chain([&b"1\r\nx\r\n"[..]; MAX_BODY + 1]).collect();
        assert_eq!(read("GET", chunks.iter().copied()), Err(HttpError::TooLarge));
        assert_eq!(read("GET", chunks[..=MAX_BODY].iter().copied()), Err(HttpError::Truncated));
        let head: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(read("GET", [head].into_iter().chain([&b"x"[..]; MAX_BODY + 1])), Err(HttpError::TooLarge));

        let new = || Exchange::new("GET", "https://a/", &[], b"", 0).expect("valid");
        assert_eq!(new().received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(Progress::Done));
        assert_eq!(new().received(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"), Err(HttpError::TooLarge));
    }

    #[test]
    fn a_close_completes_only_a_body_that_nothing_else_delimits() {
        assert_eq!(body(with("", "hello")), ok("hello", false));
        assert_eq!(body(with("", "")), ok("", false));
        assert_eq!(with("Content-Length: 6\r\n", "hello"), Err(HttpError::Truncated));
        assert_eq!(chunked("6\r\nhello"), Err(HttpError::Truncated));
        assert_eq!(get(""), Err(HttpError::Truncated));

        let mut open = exchange("GET");
        assert_eq!(open.received(b"HTTP/1.1 200 OK\r\n\r\nhello"), Ok(Progress::More));
        assert!(open.answer().is_none() && !open.reusable());
        let mut done = exchange("GET");
        assert_eq!(done.received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(Progress::Done));
        assert!(done.reusable());
        assert_eq!(done.closed(), Ok(Progress::Done));
        assert!(done.answer().is_some() && !done.reusable());
    }

    #[test]
    fn rfc9112_6_3_a_204_304_and_head_have_no_body() {
        let read = |method: &str, status: u16, fields: &str| {
            let response = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
            read(method, [response.as_bytes()]).map(|r| (r.status, r.body, r.reusable))
        };
        for (method, status) in [("GET", 204), ("GET", 304), ("HEAD", 200), ("HEAD", 404)] {
            let done = |reusable: bool| Ok((status, String::new(), reusable));
            assert_eq!(read(method, status, ""), done(true));
            assert_eq!(read(method, status, "Content-Length: 0\r\n"), done(true));
            // Whether bytes follow all the same shows later than the connection is given to the next.
            assert_eq!(read(method, status, "Content-Length: 1000\r\n"), done(false));
            assert_eq!(read(method, status, "Transfer-Encoding: chunked\r\n"), done(false));
            assert_eq!(read(method, status, "Content-Length: x\r\n"), Err(HttpError::Malformed));
        }
        assert_eq!(read("GET", 205, "Content-Length: 5\r\n"), Err(HttpError::Truncated));
        assert_eq!(body(get("HTTP/1.1 204 No Content\r\n\r\nhello")), ok("", false));
    }

    #[test]
    fn a_connection_is_reusable_only_behind_a_delimited_http_1_1_answer() {
        let fields = |fields: &str| with(&format!("Content-Length: 5\r\n{fields}"), "hello").map(|r| r.reusable);
        for (text, reusable) in [
            ("", true),
            ("Connection: keep-alive\r\n", true),
            ("Connection: x-close, closed\r\n", true),
            ("Connection: close\r\n", false),
            ("connection: CLOSE\r\n", false),
            ("Connection: keep-alive ,\tClose\r\n", false),
            ("Connection: keep-alive\r\nConnection: close\r\n", false),
        ] {
            assert_eq!(fields(text), Ok(reusable), "{text}");
        }
        let http_1_0 = |fields: &str| body(get(&format!("HTTP/1.0 200 OK\r\n{fields}\r\nhello")));
        assert_eq!(http_1_0(""), ok("hello", false));
        assert_eq!(http_1_0("Content-Length: 5\r\n"), ok("hello", false));
        assert_eq!(http_1_0("Connection: keep-alive\r\nContent-Length: 5\r\n"), ok("hello", false));
        assert_eq!(http_1_0("Transfer-Encoding: chunked\r\n"), Err(HttpError::Malformed));
    }

    #[test]
    fn one_byte_behind_the_answer_and_the_connection_is_not_reusable() {
        for rest in ["\n", "\r\n", "x", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"] {
            assert_eq!(body(with("Content-Length: 5\r\n", &format!("hello{rest}"))), ok("hello", false), "{rest:?}");
            assert_eq!(chunked(&format!("5\r\nhello\r\n0\r\n\r\n{rest}")), ok("hello", false), "{rest:?}");
            let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            let late = read("GET", [&response[..], rest.as_bytes(), b""]);
            assert_eq!(body(late), ok("hello", false), "{rest:?}");
        }
        let in_time = read("GET", [&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], b"", b""]);
        assert_eq!(body(in_time), ok("hello", true));
    }

    #[test]
    fn nothing_is_decompressed() {
        let encoded = |fields: &str| body(with(&format!("{fields}Content-Length: 5\r\n"), "hello"));
        assert_eq!(encoded("Content-Encoding: Identity\r\n"), ok("hello", true));
        for fields in [
            "Content-Encoding: gzip\r\n",
            "Content-Encoding: identity, gzip\r\n",
            "Content-Encoding:\r\n",
            "Content-Encoding: identity\r\ncontent-encoding: br\r\n",
        ] {
            assert_eq!(encoded(fields), Err(HttpError::Malformed), "{fields}");
        }
    }

    #[test]
    fn a_field_that_the_answer_names_is_there_once() {
        let twice = |fields: &str| with(&format!("{fields}Content-Length: 0\r\n"), "").map(|r| r.content_type);
        assert_eq!(twice("Content-Type: a/b\r\nX-Content-Type: c/d\r\n"), Ok("a/b".into()));
        assert_eq!(twice(""), Ok(String::new()));
        assert_eq!(twice("Content-Type: a/b\r\ncontent-type: a/b\r\n"), Err(HttpError::Malformed));
        assert_eq!(twice("Retry-After: 1\r\nRetry-After: 2\r\n"), Err(HttpError::Malformed));
    }

    #[test]
    fn each_error_has_its_message() {
        let errors =
            [HttpError::Url, HttpError::Header, HttpError::Malformed, HttpError::TooLarge, HttpError::Truncated];
        let messages = errors.map(|error| error.to_string());
        assert_eq!(
            messages.join(", "),
            "invalid url, invalid header, malformed response, response too large, truncated response"
        );
    }

    /// A response as a peer may send it, sometimes with something behind it.
    fn response() -> impl Strategy<Value = Vec<u8>> {
        let chunks = proptest::collection::vec(("[a-z]{1,9}", "(;[a-z]{1,4}(=\"[a-z ]{0,4}\")?)?"), 0..5);
        let body = prop_oneof![
            "[ -~\r\n]{0,40}".prop_map(|body| format!("Content-Length: {}\r\n\r\n{body}", body.len())),
            chunks.prop_map(|chunks| {
                let chunks: String = chunks
                    .iter()
                    .map(|(data, extension)| format!("{:x}{extension}\r\n{data}\r\n", data.len()))
                    .collect();
                format!("Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\nA: b\r\n\r\n")
            }),
            "[ -~\r\n]{0,40}".prop_map(|body| format!("\r\n{body}")),
        ];
        let status = prop_oneof![Just(200_u16), Just(204), Just(304), Just(401), Just(503)];
        let behind = prop_oneof![4 => Just(""), 1 => Just("\r\n"), 1 => Just("HTTP/1.1 200 OK\r\n\r\n")];
        (0..3_usize, status, "([A-Za-z-]{1,8}: [ -~]{0,20}\r\n){0,3}", body, behind).prop_map(
            |(interim, status, fields, body, behind)| {
                let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(interim);
                format!("{interim}HTTP/1.1 {status} X\r\n{fields}{body}{behind}").into_bytes()
            },
        )
    }

    /// The parts between cuts at any places.
    fn split<'b>(bytes: &'b [u8], cuts: &[proptest::sample::Index]) -> Vec<&'b [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    fn cuts() -> impl Strategy<Value = Vec<proptest::sample::Index>> {
        proptest::collection::vec(any::<proptest::sample::Index>(), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_valid_response_is_the_same_however_it_is_cut(bytes in response(), cuts in cuts()) {
            let whole = read("GET", [&bytes[..]]);
            prop_assert!(whole.is_ok(), "{whole:?}: {}", String::from_utf8_lossy(&bytes));
            prop_assert_eq!(&read("GET", split(&bytes, &cuts)), &whole);
            prop_assert_eq!(&read("GET", bytes.chunks(1)), &whole);
        }

        #[test]
        fn a_changed_response_is_the_same_however_it_is_cut(
            mut bytes in response(),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![
                any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b':'), Just(b';'), Just(b'0'), Just(b'9'), Just(b' '),
            ], any::<bool>()), 1..4),
            cuts in cuts(),
        ) {
            for (at, byte, insert) in changes {
                let at = at.index(bytes.len());
                if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
            }
            for method in ["GET", "HEAD"] {
                let whole = read(method, [&bytes[..]]);
                prop_assert_eq!(&read(method, split(&bytes, &cuts)), &whole);
                prop_assert_eq!(&read(method, bytes.chunks(1)), &whole);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            head in prop_oneof![Just(""), Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")],
            cuts in cuts(),
        ) {
            let bytes = [head.as_bytes(), &bytes].concat();
            let whole = read("GET", [&bytes[..]]);
            prop_assert_eq!(read("GET", split(&bytes, &cuts)), whole);
        }

        #[test]
        fn any_url_and_header_make_one_request_or_none(
            method in "[A-Z]{1,5}|\\PC{0,5}",
            url in prop_oneof![".{0,40}", "https://[a-z0-9.:@\\[\\]%-]{0,20}[/?#]?[ -~\r\n]{0,12}"],
            name in "[A-Za-z-]{1,9}|(?s).{0,9}",
            value in "[ -~]{0,20}|(?s).{0,9}",
        ) {
            let _ = Target::parse(&url);
            if let Ok(exchange) = Exchange::new(&method, &url, &[(name, value)], b"", 0) {
                let mut fields = [EMPTY_HEADER; 8];
                let mut request = httparse::Request::new(&mut fields);
                prop_assert_eq!(request.parse(exchange.request()), Ok(Status::Complete(exchange.request().len())));
                prop_assert!((4..=5).contains(&request.headers.len()));
                prop_assert_eq!(request.method, Some(&*method));
            }
        }
    }
}
