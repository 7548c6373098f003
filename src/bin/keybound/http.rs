//! One HTTPS request on a connection of its own. HTTP itself is the core's [`Exchange`], so that an answer is read here as it is read
//! in the gateway; nothing is redirected, decompressed or sent through a proxy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use keybound::client::http::{Exchange, HttpError, Progress, Target};
use keybound::steps::{Fetch, Outcome};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};

/// A complete answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: Vec<u8>,
    pub(crate) retry_after: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Why there is none, for the core and for the operator.
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) cause: String,
}

fn failure(outcome: Outcome, cause: impl ToString) -> Failure {
    Failure { outcome, cause: cause.to_string() }
}

/// Performs a request.
pub(crate) fn send(fetch: &Fetch, tls: Arc<ClientConfig>) -> Result<Response, Failure> {
    let deadlines = Deadlines::of(fetch);
    let mut exchange = Exchange::new(fetch.method, &fetch.url, &fetch.headers, &fetch.body, fetch.max_body)
        .map_err(|e| failure(Outcome::Malformed, e))?;
    let target = Target::parse(&fetch.url).map_err(|e| failure(Outcome::Malformed, e))?;
    let name = ServerName::try_from(target.host.clone()).map_err(|e| failure(Outcome::Tls, e))?;
    let mut tls = ClientConnection::new(tls, name).map_err(|e| failure(Outcome::Tls, e))?;
    let mut socket = connect(&resolve(&target, &deadlines)?, &deadlines)?;

    let patience = deadlines.connect;
    socket.wait(patience, patience, deadlines.until(patience));
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).map_err(|e| broken(&e, Outcome::Tls))?;
    }
    socket.wait(deadlines.send, deadlines.read, deadlines.total);
    let mut stream = Stream::new(&mut tls, &mut socket);
    // A server may answer, and be gone, before it read everything.
    if let Err(e) = stream.write_all(exchange.request()).and_then(|()| stream.flush())
        && is_timeout(&e)
    {
        return Err(broken(&e, Outcome::Malformed));
    }
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let progress = match stream.read(&mut buffer) {
            Ok(0) => exchange.closed(),
            Ok(n) => exchange.received(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(broken(&e, Outcome::Malformed)),
        };
        match progress {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => break,
            Err(HttpError::TooLarge) => return Err(failure(Outcome::TooLarge, HttpError::TooLarge)),
            Err(e) => return Err(failure(Outcome::Malformed, e)),
        }
    }
    // Politeness: the answer is there, whatever becomes of it.
    tls.send_close_notify();
    let _ = tls.write_tls(&mut socket);
    let answer = exchange.answer().ok_or_else(|| failure(Outcome::Malformed, HttpError::Truncated))?;
    Ok(Response {
        status: answer.status,
        content_type: answer.content_type.to_vec(),
        retry_after: answer.retry_after.to_vec(),
        body: answer.body.to_vec(),
    })
}

/// Until when, and how long each time.
struct Deadlines {
    connect: Duration,
    send: Duration,
    read: Duration,
    total: Instant,
}

impl Deadlines {
    fn of(fetch: &Fetch) -> Deadlines {
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        let now = Instant::now();
        Deadlines {
            connect: ms(fetch.timeouts.connect),
            send: ms(fetch.timeouts.send),
            read: ms(fetch.timeouts.read),
            total: now.checked_add(ms(fetch.timeouts.total)).unwrap_or(now),
        }
    }

    /// The end of something that may take so long.
    fn until(&self, patience: Duration) -> Instant {
        Instant::now().checked_add(patience).map_or(self.total, |end| end.min(self.total))
    }
}

fn late() -> Failure {
    failure(Outcome::Timeout, "no answer in time")
}

fn resolve(target: &Target, deadlines: &Deadlines) -> Result<Vec<SocketAddr>, Failure> {
    let port = target.port;
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // RFC 6761 §6.3: never a question to a name server.
    if target.host == "localhost" {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let (sender, receiver) = mpsc::channel();
    let host = target.host.clone();
    // The system's resolver knows no deadline; a thread that is late is left behind.
    thread::spawn(move || sender.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter)));
    match receiver.recv_timeout(deadlines.total.saturating_duration_since(Instant::now())) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(failure(Outcome::Resolve, "the name has no address")),
        Ok(Err(e)) => Err(failure(Outcome::Resolve, e)),
        Err(_) => Err(late()),
    }
}

/// One address after the other, each with the whole patience.
fn connect(addresses: &[SocketAddr], deadlines: &Deadlines) -> Result<Socket, Failure> {
    let mut last = late();
    for address in addresses {
        let patience = deadlines.until(deadlines.connect).saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return Err(late());
        }
        match TcpStream::connect_timeout(address, patience) {
            Ok(tcp) => {
                // Only of speed.
                let _ = tcp.set_nodelay(true);
                return Ok(Socket { tcp, send: patience, read: patience, until: deadlines.total });
            }
            Err(e) if is_timeout(&e) => last = late(),
            Err(e) => last = failure(Outcome::Connect, format_args!("{address}: {e}")),
        }
    }
    Err(last)
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == ErrorKind::TimedOut
}

/// What is not there in time is late, and not to be asked for again.
fn in_time<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| if e.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { e })
}

/// An error of a connection; what is no matter of time or TLS is `otherwise`.
fn broken(error: &io::Error, otherwise: Outcome) -> Failure {
    let of_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    match otherwise {
        _ if is_timeout(error) => late(),
        // With TLS 1.3 a server refuses the client's certificate after the handshake.
        _ if of_tls => failure(Outcome::Tls, error),
        _ => failure(otherwise, error),
    }
}

/// A TCP connection with deadlines.
struct Socket {
    tcp: TcpStream,
    /// Longest wait for one write, and for one read
    send: Duration,
    read: Duration,
    until: Instant,
}

impl Socket {
    fn wait(&mut self, send: Duration, read: Duration, until: Instant) {
        (self.send, self.read, self.until) = (send, read, until);
    }

    fn left(&self, most: Duration) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now()).min(most);
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(self.left(self.read)?)?;
        in_time(self.tcp.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.left(self.send)?)?;
        in_time(self.tcp.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
