//! What the host is asked to do, and how the core goes on with the answers.
//!
//! A flow is an `async fn` over `Host`: it reads as the procedure that it is, and each `.await` is one step of the host. No runtime
//! stands behind it. `Run` polls the flow by hand, only when an answer came, and holds what it waits for.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::reason::Reason;

/// Where a request goes: for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// RFC 8414, OpenID Connect Discovery
    Metadata,
    /// RFC 7517 §5
    Jwks,
    /// RFC 7662
    Introspection,
    /// RFC 6749 §3.2
    Token,
    /// RFC 7009
    Revocation,
    /// Pushed authorization requests, RFC 9126
    Par,
}

impl Endpoint {
    /// Every endpoint, in the order of the metrics.
    pub const ALL: [Endpoint; 6] = [
        Endpoint::Metadata,
        Endpoint::Jwks,
        Endpoint::Introspection,
        Endpoint::Token,
        Endpoint::Revocation,
        Endpoint::Par,
    ];

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Endpoint::Metadata => "metadata",
            Endpoint::Jwks => "jwks",
            Endpoint::Introspection => "introspection",
            Endpoint::Token => "token",
            Endpoint::Revocation => "revocation",
            Endpoint::Par => "par",
        }
    }
}

/// Deadlines in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TCP connection, and again for the TLS handshake
    pub connect: u32,
    /// Between two writes
    pub send: u32,
    /// Between two reads
    pub read: u32,
    /// For the whole exchange
    pub total: u32,
}

/// One request to the authorization server. Redirects are not followed, bodies are not decompressed.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetch {
    /// HTTP method
    pub method: &'static str,
    /// Absolute `https` URL
    pub url: String,
    /// Names and values
    pub headers: Vec<(String, String)>,
    /// The body, empty for none
    pub body: Vec<u8>,
    /// Which of the engine's TLS profiles to connect with; a connection is reused for the same one only
    pub tls: usize,
    /// Largest body to read, in bytes; a larger one is a failure
    pub max_body: usize,
    /// Deadlines
    pub timeouts: Timeouts,
    /// Two fetches with the same value are the same request: one that is under way answers both
    pub flight: [u8; 32],
    /// The issuer, by its place in the configuration
    pub server: usize,
    /// The endpoint
    pub endpoint: Endpoint,
    /// What it sends is good once: it is sent at most once, over a connection of its own, since one that was kept may end without an answer
    pub once: bool,
}

impl fmt::Debug for Fetch {
    /// Without headers and body: they hold tokens and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// How a [`Fetch`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a complete answer, whatever its status.
    Answered,
    /// The name could not be resolved.
    Resolve,
    /// No connection.
    Connect,
    /// No TLS, or a server that is not to be trusted.
    Tls,
    /// A deadline passed.
    Timeout,
    /// What came is not HTTP, or ended early.
    Malformed,
    /// The body is larger than asked for.
    TooLarge,
    /// The host has too many requests under way.
    Busy,
}

impl Outcome {
    /// Every outcome, in the order of the metrics.
    pub const ALL: [Outcome; 8] = [
        Outcome::Answered,
        Outcome::Resolve,
        Outcome::Connect,
        Outcome::Tls,
        Outcome::Timeout,
        Outcome::Malformed,
        Outcome::TooLarge,
        Outcome::Busy,
    ];

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Resolve => "resolve",
            Outcome::Connect => "connect",
            Outcome::Tls => "tls",
            Outcome::Timeout => "timeout",
            Outcome::Malformed => "malformed",
            Outcome::TooLarge => "too_large",
            Outcome::Busy => "busy",
        }
    }
}

/// What came of a [`Fetch`].
#[derive(Clone, Copy)]
pub struct FetchAnswer<'a> {
    /// How it ended; what follows counts with [`Outcome::Answered`] only
    pub outcome: Outcome,
    /// HTTP status
    pub status: u16,
    /// `Content-Type`, empty for none
    pub content_type: &'a [u8],
    /// `Retry-After`, empty for none
    pub retry_after: &'a [u8],
    /// The whole body
    pub body: &'a [u8],
    /// How long it took, in microseconds
    pub elapsed_us: u32,
    /// Whether this is the answer of another check's request with the same `flight`
    pub joined: bool,
}

impl FetchAnswer<'_> {
    /// An exchange without an answer.
    pub fn failed(outcome: Outcome) -> FetchAnswer<'static> {
        FetchAnswer { outcome, status: 0, content_type: b"", retry_after: b"", body: b"", elapsed_us: 0, joined: false }
    }
}

/// [`FetchAnswer`], as a flow keeps it.
pub(crate) struct Fetched {
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: Vec<u8>,
    pub(crate) elapsed_us: u32,
    pub(crate) joined: bool,
}

impl From<FetchAnswer<'_>> for Fetched {
    fn from(answer: FetchAnswer<'_>) -> Fetched {
        Fetched {
            outcome: answer.outcome,
            status: answer.status,
            content_type: String::from_utf8_lossy(answer.content_type).into_owned(),
            // A date (RFC 9110 §10.2.3) would need a calendar; the servers that limit rates send seconds.
            retry_after: std::str::from_utf8(answer.retry_after).ok().and_then(|seconds| seconds.trim().parse().ok()),
            body: answer.body.to_vec(),
            elapsed_us: answer.elapsed_us,
            joined: answer.joined,
        }
    }
}

impl Fetched {
    /// Whether the media type is `expected`, parameters aside (RFC 9110 §8.3.1).
    pub(crate) fn is(&self, expected: &str) -> bool {
        self.content_type.split(';').next().is_some_and(|typ| typ.trim().eq_ignore_ascii_case(expected))
    }
}

/// What to do with a key of the shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOperation {
    /// Atomically insert if absent.
    Add,
    /// Read.
    Get,
    /// Write.
    Put,
    /// Delete.
    Delete,
}

/// One operation on the store that all workers, and perhaps all nodes, share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// What to do
    pub operation: StoreOperation,
    /// The key: a hash, never a token
    pub key: [u8; 32],
    /// The value of `Add` and `Put`, sealed
    pub value: Vec<u8>,
    /// How long the entry lives, in seconds; at least 1
    pub ttl: u32,
    /// Wait so long before, in milliseconds: somebody else is about to write it
    pub delay_ms: u32,
    /// Of `Put`: whether the store may forget it before its time, where it has no room: it is fetched anew
    pub is_cache: bool,
}

/// What came of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAnswer<'a> {
    /// `Add`, `Put` and `Delete`: done.
    Done,
    /// `Add`: the key was there already.
    Exists,
    /// `Get`: the value.
    Found(&'a [u8]),
    /// `Get`: no such key.
    Absent,
    /// The store did not answer, is full, or refused. Never taken for `Done` or `Absent`.
    Failed,
}

/// [`StoreAnswer`], as a flow keeps it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Done,
    Exists,
    Found(Vec<u8>),
    Absent,
    Failed,
}

/// An answer to a step that was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateError;

/// What a flow waits for.
pub(crate) enum Ask {
    Fetch(Box<Fetch>),
    Store(Box<Store>),
}

enum Reply {
    Fetch(Fetched),
    Store(Stored),
}

#[derive(Default)]
struct Slot {
    now: i64,
    ask: Option<Ask>,
    reply: Option<Reply>,
}

/// A flow's way to the host.
#[derive(Clone)]
pub(crate) struct Host(Arc<Mutex<Slot>>);

impl Host {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the last answer, Unix seconds.
    pub(crate) fn now(&self) -> i64 {
        self.slot().now
    }

    async fn ask(&self, ask: Ask) -> Reply {
        let mut ask = Some(ask);
        poll_fn(move |_| {
            let mut slot = self.slot();
            if let Some(ask) = ask.take() {
                slot.ask = Some(ask);
                return Poll::Pending;
            }
            slot.reply.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub(crate) async fn fetch(&self, fetch: Fetch) -> Fetched {
        match self.ask(Ask::Fetch(Box::new(fetch))).await {
            Reply::Fetch(fetched) => fetched,
            // `Run` lets only the answer through that was asked for.
            Reply::Store(_) => Fetched::from(FetchAnswer::failed(Outcome::Malformed)),
        }
    }

    pub(crate) async fn store(&self, store: Store) -> Stored {
        match self.ask(Ask::Store(Box::new(store))).await {
            Reply::Store(stored) => stored,
            Reply::Fetch(_) => Stored::Failed,
        }
    }
}

/// The whole answer to a request that does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Why, for the log; sent with `display_errors` only
    pub reason: Reason,
    /// HTTP status
    pub status: u16,
    /// The one `WWW-Authenticate` value (RFC 6750 §3), where the status has one
    pub www_authenticate: Option<Box<str>>,
    /// `Retry-After`, seconds, where the status has one
    pub retry_after: Option<u32>,
    /// `Content-Type` of the body
    pub content_type: &'static str,
    /// JSON, or a page for people
    pub body: Box<str>,
    /// Further headers. A name may come more than once.
    pub headers: Vec<(&'static str, String)>,
}

/// A refusal, and what the log should say besides the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why
    pub reason: Reason,
    /// A sentence for the operator: what the authorization server did wrong. Holds no token, secret or claim.
    pub detail: Option<Box<str>>,
    /// The answer, where it is not the reason's usual one.
    pub(crate) response: Option<Box<Response>>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl Into<Box<str>>) -> Refusal {
        Refusal { reason, detail: Some(detail.into()), response: None }
    }
}

impl Refusal {
    /// What the log should say of it in the detail of another.
    pub(crate) fn text(self) -> String {
        self.detail.map_or_else(|| self.reason.code().to_owned(), String::from)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { reason, detail: None, response: None }
    }
}

type Flow<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;

/// A flow, and where it stands.
pub(crate) struct Run<T> {
    host: Host,
    state: State<T>,
}

pub(crate) enum State<T> {
    Done(Result<T, Refusal>),
    Waiting(Ask, Flow<T>),
}

impl<T> Run<T> {
    /// One that needs no steps.
    pub(crate) fn done(outcome: Result<T, Refusal>) -> Run<T> {
        Run { host: Host(Arc::default()), state: State::Done(outcome) }
    }

    /// Begins a flow at `now`, Unix seconds.
    pub(crate) fn begin<F>(now: i64, flow: impl FnOnce(Host) -> F) -> Run<T>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let host = Host(Arc::default());
        host.slot().now = now;
        let flow = Box::pin(flow(host.clone()));
        let mut run = Run { host, state: State::Done(Err(Reason::InternalError.into())) };
        run.go(flow);
        run
    }

    pub(crate) fn state(&self) -> &State<T> {
        &self.state
    }

    fn go(&mut self, mut flow: Flow<T>) {
        self.state = match flow.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => State::Done(outcome),
            Poll::Pending => match self.host.slot().ask.take() {
                Some(ask) => State::Waiting(ask, flow),
                // A flow waits for the host and for nothing else.
                None => State::Done(Err(Reason::InternalError.into())),
            },
        };
    }

    fn resume(&mut self, now: i64, reply: Reply) -> Result<(), StateError> {
        let fits = matches!(
            (&self.state, &reply),
            (State::Waiting(Ask::Fetch(_), _), Reply::Fetch(_)) | (State::Waiting(Ask::Store(_), _), Reply::Store(_))
        );
        if !fits {
            return Err(StateError);
        }
        // If the flow panics, this is what remains.
        let state = std::mem::replace(&mut self.state, State::Done(Err(Reason::InternalError.into())));
        if let State::Waiting(_, flow) = state {
            {
                let mut slot = self.host.slot();
                slot.now = now;
                slot.reply = Some(reply);
            }
            self.go(flow);
        }
        Ok(())
    }

    pub(crate) fn fetched(&mut self, now: i64, answer: FetchAnswer<'_>) -> Result<(), StateError> {
        self.resume(now, Reply::Fetch(answer.into()))
    }

    pub(crate) fn stored(&mut self, now: i64, answer: StoreAnswer<'_>) -> Result<(), StateError> {
        let stored = match answer {
            StoreAnswer::Done => Stored::Done,
            StoreAnswer::Exists => Stored::Exists,
            StoreAnswer::Found(value) => Stored::Found(value.to_vec()),
            StoreAnswer::Absent => Stored::Absent,
            StoreAnswer::Failed => Stored::Failed,
        };
        self.resume(now, Reply::Store(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn store(ttl: u32) -> Store {
        Store { operation: StoreOperation::Add, key: [7; 32], value: Vec::new(), ttl, delay_ms: 0, is_cache: false }
    }

    fn fetch() -> Fetch {
        Fetch {
            method: "POST",
            url: "https://as.test/introspect".into(),
            headers: Vec::new(),
            body: Vec::new(),
            tls: 0,
            max_body: 0,
            timeouts: Timeouts::default(),
            flight: [0; 32],
            server: 0,
            once: false,
            endpoint: Endpoint::Introspection,
        }
    }

    /// Asks for a fetch, then for the store, then refuses; panics where the fetch answers 599.
    fn script() -> Run<()> {
        Run::begin(1, |host| async move {
            let fetched = host.fetch(fetch()).await;
            assert_ne!(fetched.status, 599);
            assert_eq!(host.now(), 2);
            assert_eq!(host.store(store(u32::from(fetched.status))).await, Stored::Exists);
            Err(Reason::TokenExpired.into())
        })
    }

    fn answer(status: u16) -> FetchAnswer<'static> {
        FetchAnswer { status, ..FetchAnswer::failed(Outcome::Answered) }
    }

    #[test]
    fn steps_are_taken_in_order_and_a_wrong_answer_changes_nothing() {
        let mut run = script();
        assert!(matches!(run.state(), State::Waiting(Ask::Fetch(_), _)));
        assert_eq!(run.stored(2, StoreAnswer::Done), Err(StateError));
        assert!(matches!(run.state(), State::Waiting(Ask::Fetch(_), _)));
        assert_eq!(run.fetched(2, answer(200)), Ok(()));
        assert!(matches!(run.state(), State::Waiting(Ask::Store(store), _) if store.ttl == 200));
        assert_eq!(run.fetched(2, answer(200)), Err(StateError));
        assert_eq!(run.stored(2, StoreAnswer::Exists), Ok(()));
        assert!(matches!(run.state(), State::Done(Err(refusal)) if refusal.reason == Reason::TokenExpired));
        assert_eq!(run.stored(2, StoreAnswer::Done), Err(StateError));
        assert_eq!(run.fetched(2, answer(200)), Err(StateError));
    }

    #[test]
    fn a_panic_in_a_step_leaves_a_refusal() {
        let mut run = script();
        assert!(catch_unwind(AssertUnwindSafe(|| run.fetched(2, answer(599)))).is_err());
        assert!(matches!(run.state(), State::Done(Err(refusal)) if refusal.reason == Reason::InternalError));
        assert_eq!(run.fetched(2, answer(200)), Err(StateError));
    }

    #[test]
    fn a_fetch_shows_no_token_and_no_secret() {
        let mut fetch = fetch();
        fetch.headers.push(("authorization".into(), "Basic c2VjcmV0".into()));
        fetch.body = b"token=secret".to_vec();
        assert_eq!(format!("{fetch:?}"), "POST https://as.test/introspect");
    }

    #[test]
    fn a_media_type_is_compared_without_case_and_parameters() {
        let is = |content_type: &str| {
            let mut fetched = Fetched::from(answer(200));
            fetched.content_type = content_type.into();
            fetched.is("application/json")
        };
        for good in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;x"] {
            assert!(is(good), "{good}");
        }
        for bad in ["", "application/json5", "text/html", "application/jwt", "; application/json"] {
            assert!(!is(bad), "{bad}");
        }
    }
}
