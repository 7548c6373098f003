//! The load generator of `make bench`: what a check costs the worker of a real nginx, in processor time a request.
//!
//!     keybound-load jwks              prints the keys of its tokens, for the configuration of nginx
//!     keybound-load run PORT PKI      measures; PKI has the certificates `bench` (nginx's), `client` and `thief`
//!     keybound-load one PORT PKI TARGET SECONDS    one target alone, to look at with a profiler
//!
//! A shared machine's speed drifts by more than what is to be measured. So targets take turns in short slices, in another
//! order each round, and between any two of them is a slice without a check: each is compared with the two next to it.

#[path = "../../../tests/common/mod.rs"]
mod common;

mod client;
mod report;
mod sys;

use std::error::Error;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use serde_json::json;

use client::Connection;
use sys::{CpuClock, Poll};

pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CONNECTIONS: usize = 16;
/// Three times what an engine remembers: each is forgotten when it comes again.
const TOKENS: usize = 3 * 4096;
const TOKEN_BYTES: usize = 800;
/// What goes before each slice, uncounted: the caches of the processor are those of the target before. With new tokens
/// that includes the memory of all that the engine remembers, which is overwritten in this time.
const WARM_UP: Duration = Duration::from_millis(10);
const WARM_UP_NEW: Duration = Duration::from_millis(150);

/// Which tokens a target gets.
#[derive(Clone, Copy, PartialEq)]
enum Tokens {
    Same,
    New,
}

/// What a target must refuse, each what is above it, too: a measurement of an open gate says nothing.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Guards {
    Nothing,
    Presence,
    Signature,
    Binding,
}

struct Target {
    /// The server in nginx.conf, below `bench.test`.
    name: &'static str,
    what: &'static str,
    tokens: Tokens,
    guards: Guards,
}

const fn target(name: &'static str, what: &'static str, tokens: Tokens, guards: Guards) -> Target {
    Target { name, what, tokens, guards }
}

/// What all are compared with.
const NONE: Target = target("none", "no check", Tokens::Same, Guards::Nothing);
const TARGETS: [Target; 9] = [
    target("none-again", "no check, another server", Tokens::Same, Guards::Nothing),
    target("module-hot", "module, hot", Tokens::Same, Guards::Binding),
    target("lua-empty", "Lua, empty function", Tokens::Same, Guards::Nothing),
    target("lua-hot", "Lua, hot, ctx = false", Tokens::Same, Guards::Binding),
    target("lua-claims", "Lua, hot, with claims", Tokens::Same, Guards::Binding),
    target("raw-decoded", "signature decoded, in C", Tokens::New, Guards::Presence),
    target("raw-verified", "signature verified, in C", Tokens::New, Guards::Signature),
    target("module-cold", "module, cold", Tokens::New, Guards::Binding),
    target("lua-cold", "Lua, cold, ctx = false", Tokens::New, Guards::Binding),
];

/// A slice: how many requests, in what time, for how much of the worker's.
#[derive(Clone, Copy)]
struct Slice {
    requests: f64,
    wall: Duration,
    cpu: Duration,
}

impl Slice {
    /// Microseconds of processor time a request.
    fn us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests
    }

    fn rate(&self) -> f64 {
        self.requests / self.wall.as_secs_f64()
    }

    fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// A target's slice, and those without a check before and after it.
#[derive(Clone, Copy)]
struct Sample {
    slice: Slice,
    none: [Slice; 2],
}

struct Server {
    host: String,
    connections: Vec<Connection>,
    poll: Poll,
    tokens: Tokens,
    next: usize,
}

fn request(host: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n").into_bytes()
}

impl Server {
    fn new(target: &Target, config: &Arc<ClientConfig>, port: u16) -> Fallible<Server> {
        let host = format!("{}.bench.test", target.name);
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for index in 0..CONNECTIONS {
            let connection = Connection::open(config, port, &host)?;
            poll.add(connection.fd(), index)?;
            connections.push(connection);
        }
        Ok(Server { host, connections, poll, tokens: target.tokens, next: 0 })
    }

    fn send(&mut self, connection: usize, tokens: &[String]) -> Fallible<()> {
        if self.tokens == Tokens::New {
            self.next = (self.next + 1) % tokens.len();
        }
        self.connections[connection].send(&request(&self.host, Some(&tokens[self.next])))
    }

    /// All connections at once, each with its next request when it has its answer. Returns when all have theirs, so that
    /// the worker has nothing left to do.
    fn load(&mut self, tokens: &[String], time: Duration) -> Fallible<usize> {
        let end = Instant::now() + time;
        for connection in 0..CONNECTIONS {
            self.send(connection, tokens)?;
        }
        let (mut under_way, mut answered) = (CONNECTIONS, 0);
        while under_way > 0 {
            for index in self.poll.ready()? {
                match self.connections[index].receive()? {
                    None => continue,
                    Some(200) => self.connections[index].clear(),
                    Some(status) => return Err(format!("{}: status {status}", self.host).into()),
                }
                answered += 1;
                if Instant::now() < end {
                    self.send(index, tokens)?;
                } else {
                    under_way -= 1;
                }
            }
        }
        Ok(answered)
    }

    fn slice(&mut self, tokens: &[String], time: Duration, clock: &CpuClock) -> Fallible<Slice> {
        self.load(tokens, if self.tokens == Tokens::New { WARM_UP_NEW } else { WARM_UP })?;
        let (wall, cpu) = (Instant::now(), clock.now()?);
        let requests = self.load(tokens, time)? as f64;
        Ok(Slice { requests, wall: wall.elapsed(), cpu: clock.now()? - cpu })
    }
}

/// Distinct tokens, bound to that certificate.
fn mint(certificate: &[u8], count: usize) -> Fallible<Vec<String>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let confirmation = common::x5t(certificate);
    let token = |i: usize, padding: usize| {
        common::mint("RS256", |claims| {
            claims["iat"] = (now - 10).into();
            claims["exp"] = (now + 86_400).into();
            claims["jti"] = format!("{i:08}").into();
            claims["cnf"] = json!({ "x5t#S256": confirmation });
            claims["groups"] = json!(["g".repeat(padding)]);
        })
    };
    // base64url makes 4 of 3.
    let padding = TOKEN_BYTES.saturating_sub(token(0, 0).len()) * 3 / 4;
    let threads = thread::available_parallelism()?.get();
    let part = |thread: usize| (thread..count).step_by(threads).map(|i| token(i, padding)).collect::<Vec<_>>();
    Ok(thread::scope(|scope| {
        let part = &part;
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("minted")).collect()
    }))
}

/// The same token with another signature.
fn tampered(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

fn setting(name: &str, default: u64) -> Fallible<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{name}: not a number: {text}").into()),
        Err(_) => Ok(default),
    }
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// nginx, and how it is asked.
struct Bench {
    port: u16,
    own: Arc<ClientConfig>,
    thief: Arc<ClientConfig>,
    tokens: Vec<String>,
    /// The worker's.
    clock: CpuClock,
}

impl Bench {
    fn new(port: &str, pki: &Path) -> Fallible<Bench> {
        let port = port.parse()?;
        let own = client::config(pki, "bench", "client")?;
        let thief = client::config(pki, "bench", "thief")?;
        let tokens = mint(&client::certificate(pki, "client")?, TOKENS)?;
        let host = "worker.bench.test";
        let (_, pid) = Connection::open(&own, port, host)?.ask(&request(host, None))?;
        Ok(Bench { port, own, thief, tokens, clock: CpuClock::of(pid.trim().parse()?)? })
    }

    fn server(&self, target: &Target) -> Fallible<Server> {
        self.check_gate(target)?;
        Server::new(target, &self.own, self.port)
    }

    /// A target takes a good request, and refuses the wrong ones that it guards against and no others.
    fn check_gate(&self, target: &Target) -> Fallible<()> {
        let host = format!("{}.bench.test", target.name);
        let (good, tampered) = (&*self.tokens[0], tampered(&self.tokens[0]));
        let guards = |what: Guards| target.guards >= what;
        let cases = [
            ("a good request", &self.own, Some(good), false),
            ("a tampered token", &self.own, Some(&*tampered), guards(Guards::Signature)),
            ("no token", &self.own, None, guards(Guards::Presence)),
            ("another's token", &self.thief, Some(good), guards(Guards::Binding)),
        ];
        for (what, config, token, refused) in cases {
            let (status, _) = Connection::open(config, self.port, &host)?.ask(&request(&host, token))?;
            let expected = if refused { 401 } else { 200 };
            if status != expected {
                return Err(format!("{host}: {what}: status {status} instead of {expected}").into());
            }
        }
        Ok(())
    }
}

fn one(bench: &Bench, name: &str, seconds: &str) -> Fallible<()> {
    let target = TARGETS.iter().chain([&NONE]).find(|target| target.name == name).ok_or("no such target")?;
    let slice = bench.server(target)?.slice(&bench.tokens, Duration::from_secs(seconds.parse()?), &bench.clock)?;
    println!("{name}: {:.0} requests, {:.2} us of processor time each", slice.requests, slice.us());
    Ok(())
}

fn run(bench: &Bench) -> Fallible<()> {
    let rounds = setting("ROUNDS", 40)?;
    let time = Duration::from_millis(setting("SLICE_MS", 100)?);
    let Bench { tokens, clock, .. } = bench;
    let mut none = bench.server(&NONE)?;
    let mut servers = TARGETS.iter().map(|target| bench.server(target)).collect::<Fallible<Vec<_>>>()?;
    let mut samples = TARGETS.map(|_| Vec::new());
    let mut order: Vec<usize> = (0..TARGETS.len()).collect();
    for _ in 0..rounds {
        order.sort_by_cached_key(|_| random());
        let mut before = none.slice(tokens, time, clock)?;
        for i in order.iter().copied() {
            let slice = servers[i].slice(tokens, time, clock)?;
            let after = none.slice(tokens, time, clock)?;
            samples[i].push(Sample { slice, none: [before, after] });
            before = after;
        }
    }
    report::print(&samples, tokens[0].len())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["jwks"] => {
            println!("{}", json!({ "keys": [common::named_jwk("RS256")] }));
            Ok(())
        }
        ["run", port, pki] => Bench::new(port, Path::new(pki)).and_then(|bench| run(&bench)),
        ["one", port, pki, target, seconds] => {
            Bench::new(port, Path::new(pki)).and_then(|bench| one(&bench, target, seconds))
        }
        _ => Err("usage: keybound-load jwks | run PORT PKI | one PORT PKI TARGET SECONDS".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keybound-load: {error}");
            ExitCode::FAILURE
        }
    }
}
