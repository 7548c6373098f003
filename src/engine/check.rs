//! The step machine of one request. The engine says what is to be done, the host does it and feeds the answer back.

use std::sync::Arc;

use super::Engine;
use super::respond::Response;
use crate::binding::Bound;
use crate::reason::Reason;

/// What the host does next.
#[derive(Debug)]
#[must_use = "anything but Allow is a refusal"]
pub enum Step<'c> {
    /// Proxy the request.
    Allow(&'c Granted),
    /// Answer the client.
    Respond(&'c Response),
    /// Perform one HTTPS request, then call [`Check::fetched`].
    Fetch(&'c Fetch),
    /// Perform one operation on the shared store, then call [`Check::stored`].
    Store(&'c Store),
}

/// An allowed request.
#[derive(Debug)]
pub struct Granted {
    _bound: Bound,
    claims: Vec<u8>,
    headers: Vec<(Box<str>, Option<String>)>,
}

impl Granted {
    /// Only a checked binding makes one.
    pub(crate) fn new(bound: Bound, claims: Vec<u8>, headers: Vec<(Box<str>, Option<String>)>) -> Granted {
        Granted { _bound: bound, claims, headers }
    }

    /// The claims of the token as JSON, exactly as signed.
    pub fn claims(&self) -> &[u8] {
        &self.claims
    }

    /// Headers for the upstream: set to the value, or removed where there is none.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, Option<&str>)> {
        self.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()))
    }
}

/// One request to the authorization server. Redirects are not followed, bodies are not decompressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// HTTP method
    pub method: &'static str,
    /// Absolute `https` URL
    pub url: String,
    /// Names and values
    pub headers: Vec<(String, String)>,
    /// The body, empty for none
    pub body: Vec<u8>,
    /// Which of the configured client certificates to offer; a connection is reused for the same one only
    pub client_certificate: Option<String>,
    /// Largest body to read, in bytes; a larger one is a failure
    pub max_body: usize,
    /// Time for the whole exchange, in milliseconds
    pub timeout_ms: u32,
}

/// What came of a [`Fetch`].
#[derive(Clone, Copy, Debug)]
pub struct FetchAnswer<'a> {
    /// HTTP status; 0 where there was no complete answer
    pub status: u16,
    /// `Content-Type`, empty for none
    pub content_type: &'a [u8],
    /// The whole body
    pub body: &'a [u8],
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
    pub key: Vec<u8>,
    /// The value of `Add` and `Put`
    pub value: Vec<u8>,
    /// How long the entry lives, in seconds; at least 1
    pub ttl: u32,
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

/// An answer to the step that was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateError;

/// What an engine does with the answer to a step.
pub(crate) trait Task: Send {
    /// Goes on with the answer to a fetch.
    fn fetched(self: Box<Self>, engine: &Engine, now: i64, answer: FetchAnswer<'_>) -> State;
    /// Goes on with the answer of the store.
    fn stored(self: Box<Self>, engine: &Engine, now: i64, answer: StoreAnswer<'_>) -> State;
}

#[cfg_attr(not(test), expect(dead_code, reason = "a JWT with configured keys needs no fetch and no store"))]
pub(crate) enum State {
    Allow(Granted),
    Respond(Reason),
    Fetch(Box<Fetch>, Box<dyn Task>),
    Store(Box<Store>, Box<dyn Task>),
}

/// One request. Holds its engine alive.
pub struct Check {
    engine: Arc<Engine>,
    state: State,
}

impl Check {
    pub(crate) fn decided(engine: Arc<Engine>, outcome: Result<Granted, Reason>) -> Check {
        let state = outcome.map_or_else(State::Respond, State::Allow);
        Check { engine, state }
    }

    /// What the host does next.
    pub fn step(&self) -> Step<'_> {
        match &self.state {
            State::Allow(granted) => Step::Allow(granted),
            State::Respond(reason) => Step::Respond(self.engine.response(*reason)),
            State::Fetch(fetch, _) => Step::Fetch(fetch),
            State::Store(store, _) => Step::Store(store),
        }
    }

    /// Why; `None` while there are steps to take.
    pub fn reason(&self) -> Option<Reason> {
        match &self.state {
            State::Allow(_) => Some(Reason::Allowed),
            State::Respond(reason) => Some(*reason),
            State::Fetch(..) | State::Store(..) => None,
        }
    }

    /// Takes the answer to [`Step::Fetch`], at `now` in Unix seconds.
    ///
    /// # Errors
    /// The step is another one; nothing changes.
    pub fn fetched(&mut self, now: i64, answer: FetchAnswer<'_>) -> Result<(), StateError> {
        if !matches!(self.state, State::Fetch(..)) {
            return Err(StateError);
        }
        if let State::Fetch(_, task) = self.take() {
            self.state = task.fetched(&self.engine, now, answer);
        }
        Ok(())
    }

    /// Takes the answer to [`Step::Store`], at `now` in Unix seconds.
    ///
    /// # Errors
    /// The step is another one; nothing changes.
    pub fn stored(&mut self, now: i64, answer: StoreAnswer<'_>) -> Result<(), StateError> {
        if !matches!(self.state, State::Store(..)) {
            return Err(StateError);
        }
        if let State::Store(_, task) = self.take() {
            self.state = task.stored(&self.engine, now, answer);
        }
        Ok(())
    }

    /// Leaves a refusal behind while a task runs: if it panics, that is what remains.
    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Respond(Reason::InternalError))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Asks for a fetch, then for the store, then refuses; panics where the fetch answers 599.
    struct Script;

    impl Task for Script {
        fn fetched(self: Box<Self>, _: &Engine, _: i64, answer: FetchAnswer<'_>) -> State {
            assert_ne!(answer.status, 599);
            let store = Store { operation: StoreOperation::Add, key: answer.body.to_vec(), value: Vec::new(), ttl: 1 };
            State::Store(Box::new(store), self)
        }

        fn stored(self: Box<Self>, _: &Engine, _: i64, _: StoreAnswer<'_>) -> State {
            State::Respond(Reason::TokenExpired)
        }
    }

    fn check() -> Check {
        let config = br#"{"issuer":"i","insecure_any_audience":true,"jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}}"#;
        Check {
            engine: Arc::new(Engine::new(config).expect("valid")),
            state: State::Fetch(Box::default(), Box::new(Script)),
        }
    }

    fn answer(status: u16) -> FetchAnswer<'static> {
        FetchAnswer { status, content_type: b"", body: b"key" }
    }

    #[test]
    fn steps_are_taken_in_order_and_only_the_last_has_a_reason() {
        let mut check = check();
        assert!(matches!(check.step(), Step::Fetch(_)));
        assert_eq!(check.reason(), None);
        assert_eq!(check.stored(0, StoreAnswer::Done), Err(StateError));
        assert!(matches!(check.step(), Step::Fetch(_)));
        assert_eq!(check.fetched(0, answer(200)), Ok(()));
        assert!(matches!(check.step(), Step::Store(store) if store.key == b"key"));
        assert_eq!(check.fetched(0, answer(200)), Err(StateError));
        assert_eq!(check.stored(0, StoreAnswer::Done), Ok(()));
        assert!(matches!(check.step(), Step::Respond(r) if r.status == 401));
        assert_eq!(check.reason(), Some(Reason::TokenExpired));
        assert_eq!(check.stored(0, StoreAnswer::Done), Err(StateError));
        assert_eq!(check.fetched(0, answer(200)), Err(StateError));
    }

    #[test]
    fn a_panic_in_a_step_leaves_a_refusal() {
        let mut check = check();
        let panicked = catch_unwind(AssertUnwindSafe(|| check.fetched(0, answer(599))));
        assert!(panicked.is_err());
        assert!(matches!(check.step(), Step::Respond(r) if r.status == 500));
        assert_eq!(check.reason(), Some(Reason::InternalError));
    }
}
