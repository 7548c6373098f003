//! The step machine of one request. The engine says what is to be done, the host does it and feeds the answer back.

use std::sync::Arc;

use super::Engine;
use super::respond::{Changes, header_value};
use crate::binding::{Bound, Scheme};
use crate::jose::json;
use crate::reason::Reason;
use crate::steps::{Ask, Fetch, FetchAnswer, Refusal, Response, Run, State, StateError, Store, StoreAnswer};

/// What the host does next.
#[derive(Debug)]
#[must_use = "anything but Allow and Report is a refusal"]
pub enum Step<'c> {
    /// Proxy the request.
    Allow(&'c Granted),
    /// Proxy the request, without claims and headers of its own, and log the reason: this is what the client would have got if the engine
    /// did not only report (`report_only`).
    Report(&'c Response),
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
    /// `None` where no headers are configured: what is moved about with each decision stays small.
    changes: Option<Box<Changes>>,
    /// What the log should say all the same.
    note: Option<Box<str>>,
}

impl Granted {
    /// Only a checked binding makes one.
    pub(crate) fn new(bound: Bound, claims: Vec<u8>, changes: Option<Box<Changes>>) -> Granted {
        Granted { _bound: bound, claims, changes, note: None }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.note = Some(note.into());
    }

    /// The claims of the token as JSON, exactly as its issuer gave them.
    pub fn claims(&self) -> &[u8] {
        &self.claims
    }

    /// A claim as the text that a header would have: strings, numbers and booleans as they are, the rest as JSON. `None` where the token has no
    /// such claim, and where it has control characters or is a number that cannot be told exactly.
    pub fn claim(&self, name: &str) -> Option<String> {
        json::parse_object(&self.claims).ok()?.get(name).and_then(header_value)
    }

    /// Headers for the upstream: set to the value, or removed where there is none.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, Option<&str>)> {
        let headers = self.changes.as_ref().map_or(&[][..], |changes| &changes.request);
        headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()))
    }

    /// What names the proof that this request used, and when, for [`super::Http::spent`] should the request be decided about again; `None` where
    /// no store noted a proof of it.
    pub fn spent(&self) -> Option<&[u8]> {
        self.changes.as_ref()?.spent.as_deref()
    }

    /// Headers for the client's response. A name may come more than once: all of them are sent.
    pub fn response_headers(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let headers = self.changes.as_ref().map_or(&[][..], |changes| &changes.response);
        headers.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }
}

/// One request. Holds its engine alive.
pub struct Check {
    engine: Arc<Engine>,
    /// How the request sent its token
    scheme: Scheme,
    run: Run<Granted>,
}

impl Check {
    pub(crate) fn new(engine: Arc<Engine>, scheme: Scheme, run: Run<Granted>) -> Check {
        Check { engine, scheme, run }
    }

    /// What the host does next.
    pub fn step(&self) -> Step<'_> {
        match self.run.state() {
            State::Done(Ok(granted)) => Step::Allow(granted),
            State::Done(Err(refusal)) => {
                let usual = || self.engine.response_to(self.scheme, refusal.reason);
                let response = refusal.response.as_deref().unwrap_or_else(usual);
                if self.engine.report_only() { Step::Report(response) } else { Step::Respond(response) }
            }
            State::Waiting(Ask::Fetch(fetch), _) => Step::Fetch(fetch),
            State::Waiting(Ask::Store(store), _) => Step::Store(store),
        }
    }

    /// Why; `None` while there are steps to take.
    pub fn reason(&self) -> Option<Reason> {
        match self.run.state() {
            State::Done(Ok(_)) => Some(Reason::Allowed),
            State::Done(Err(refusal)) => Some(refusal.reason),
            State::Waiting(..) => None,
        }
    }

    /// What the log should say besides the reason.
    pub fn detail(&self) -> Option<&str> {
        match self.run.state() {
            State::Done(Ok(granted)) => granted.note.as_deref(),
            State::Done(Err(Refusal { detail, .. })) => detail.as_deref(),
            _ => None,
        }
    }

    /// Whether there is an answer that is this request's alone, and not the usual one of its reason.
    pub fn answers(&self) -> bool {
        matches!(self.run.state(), State::Done(Err(Refusal { response: Some(_), .. })))
    }

    /// The issuer whose server a fetch goes to.
    pub fn issuer(&self, fetch: &Fetch) -> Option<&str> {
        self.engine.issuers().nth(fetch.server)
    }

    /// Takes the answer to [`Step::Fetch`], at `now` in Unix seconds.
    ///
    /// # Errors
    /// The step is another one; nothing changes.
    pub fn fetched(&mut self, now: i64, answer: FetchAnswer<'_>) -> Result<(), StateError> {
        self.run.fetched(now, answer)
    }

    /// Takes the answer to [`Step::Store`], at `now` in Unix seconds.
    ///
    /// # Errors
    /// The step is another one; nothing changes.
    pub fn stored(&mut self, now: i64, answer: StoreAnswer<'_>) -> Result<(), StateError> {
        self.run.stored(now, answer)
    }
}
