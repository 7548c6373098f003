//! The host of this command line: performs the steps that the core asks for, one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keybound::engine::{Call, CallStep, Setting};
use keybound::steps::{Fetch, FetchAnswer, Outcome, Refusal, StateError, Store, StoreAnswer, StoreOperation};
use keybound::{Check, Engine, Step};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::files::Clock;
use crate::{http, trust};

/// What a flow asks for.
pub(crate) enum Ask<'f> {
    Nothing,
    Fetch(&'f Fetch),
    Store(&'f Store),
}

/// A check or a call.
pub(crate) trait Flow {
    fn ask(&self) -> Ask<'_>;
    fn fetched(&mut self, now: i64, answer: FetchAnswer<'_>) -> Result<(), StateError>;
    fn stored(&mut self, now: i64, answer: StoreAnswer<'_>) -> Result<(), StateError>;
}

impl Flow for Check {
    fn ask(&self) -> Ask<'_> {
        match self.step() {
            Step::Allow(_) | Step::Report(_) | Step::Respond(_) => Ask::Nothing,
            Step::Fetch(fetch) => Ask::Fetch(fetch),
            Step::Store(store) => Ask::Store(store),
        }
    }

    fn fetched(&mut self, now: i64, answer: FetchAnswer<'_>) -> Result<(), StateError> {
        Check::fetched(self, now, answer)
    }

    fn stored(&mut self, now: i64, answer: StoreAnswer<'_>) -> Result<(), StateError> {
        Check::stored(self, now, answer)
    }
}

impl Flow for Call {
    fn ask(&self) -> Ask<'_> {
        match self.step() {
            CallStep::Done(_) => Ask::Nothing,
            CallStep::Fetch(fetch) => Ask::Fetch(fetch),
            CallStep::Store(store) => Ask::Store(store),
        }
    }

    fn fetched(&mut self, now: i64, answer: FetchAnswer<'_>) -> Result<(), StateError> {
        Call::fetched(self, now, answer)
    }

    fn stored(&mut self, now: i64, answer: StoreAnswer<'_>) -> Result<(), StateError> {
        Call::stored(self, now, answer)
    }
}

/// What was asked of an authorization server. Holds no token and no secret.
struct Asked {
    endpoint: &'static str,
    url: String,
    outcome: Outcome,
    status: Option<u16>,
    ms: u64,
    error: Option<String>,
}

/// Performs steps, and notes what came of them.
pub(crate) struct Host {
    clock: Clock,
    verbose: bool,
    /// Of the profiles that were needed so far.
    tls: HashMap<usize, Arc<ClientConfig>>,
    asked: Vec<Asked>,
    /// The store that workers share; one command has nobody to share with.
    stored: HashMap<[u8; 32], Vec<u8>>,
}

impl Host {
    pub(crate) fn new(clock: Clock, verbose: bool) -> Host {
        Host { clock, verbose, tls: HashMap::new(), asked: Vec::new(), stored: HashMap::new() }
    }

    /// Goes on with a flow to its end.
    ///
    /// # Errors
    /// Something on this machine keeps it from going on.
    pub(crate) fn run(&mut self, engine: &Engine, flow: &mut impl Flow) -> Result<(), String> {
        loop {
            let result = match flow.ask() {
                Ask::Nothing => return Ok(()),
                Ask::Store(store) => {
                    let now = self.clock.now()?;
                    flow.stored(now, keep(&mut self.stored, store.clone()))
                }
                Ask::Fetch(fetch) => {
                    let (result, elapsed) = self.perform(engine, fetch)?;
                    let elapsed_us = u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX);
                    let answer = match &result {
                        Ok(response) => FetchAnswer {
                            status: response.status,
                            content_type: &response.content_type,
                            retry_after: &response.retry_after,
                            body: &response.body,
                            elapsed_us,
                            ..FetchAnswer::failed(Outcome::Answered)
                        },
                        Err(outcome) => FetchAnswer { elapsed_us, ..FetchAnswer::failed(*outcome) },
                    };
                    flow.fetched(self.clock.now()?, answer)
                }
            };
            result.map_err(|StateError| "internal error: an answer that was not asked for")?;
        }
    }

    fn perform(
        &mut self,
        engine: &Engine,
        fetch: &Fetch,
    ) -> Result<(Result<http::Response, Outcome>, Duration), String> {
        let profile = engine.tls_profiles().get(fetch.tls).ok_or("internal error: there is no such TLS profile")?;
        let tls = match self.tls.get(&fetch.tls) {
            Some(tls) => Arc::clone(tls),
            None => {
                let tls = Arc::new(trust::config(profile)?);
                self.tls.insert(fetch.tls, Arc::clone(&tls));
                tls
            }
        };
        let begun = Instant::now();
        let result = http::send(fetch, tls);
        let elapsed = begun.elapsed();
        let asked = Asked {
            endpoint: fetch.endpoint.name(),
            url: fetch.url.clone(),
            outcome: result.as_ref().map_or_else(|failure| failure.outcome, |_| Outcome::Answered),
            status: result.as_ref().ok().map(|response| response.status),
            ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            error: match &result {
                Ok(response) => error_code(&response.body).filter(|_| response.status >= 400),
                Err(failure) => Some(failure.cause.clone()),
            },
        };
        if self.verbose {
            let status = asked.status.map_or_else(String::new, |status| format!(" {status}"));
            let certificate =
                profile.name.as_ref().map_or_else(String::new, |name| format!(", client certificate {name}"));
            let error = asked.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            eprintln!(
                "keybound: {} {}: {}{status}, {} ms{certificate}{error}",
                fetch.method,
                asked.url,
                asked.outcome.name(),
                asked.ms
            );
        }
        self.asked.push(asked);
        Ok((result.map_err(|failure| failure.outcome), elapsed))
    }

    /// What was asked, for a report.
    pub(crate) fn requests(&self) -> Value {
        let requests = self.asked.iter().map(|asked| {
            json!({
                "endpoint": asked.endpoint,
                "url": asked.url,
                "outcome": asked.outcome.name(),
                "status": asked.status,
                "ms": asked.ms,
                "error": asked.error,
            })
        });
        requests.collect()
    }

    /// A refusal in one line, with what the last request failed for.
    pub(crate) fn message(&self, refusal: &Refusal) -> String {
        let what = refusal.detail.as_deref().unwrap_or(refusal.reason.meaning());
        let cause = self.asked.last().and_then(|asked| asked.error.as_ref());
        format!("{}: {what}{}", refusal.reason.code(), cause.map_or_else(String::new, |cause| format!(" ({cause})")))
    }
}

/// What a store does, of which there is nothing but this.
fn keep<'s>(stored: &'s mut HashMap<[u8; 32], Vec<u8>>, store: Store) -> StoreAnswer<'s> {
    match store.operation {
        StoreOperation::Add if stored.contains_key(&store.key) => StoreAnswer::Exists,
        StoreOperation::Add | StoreOperation::Put => {
            stored.insert(store.key, store.value);
            StoreAnswer::Done
        }
        StoreOperation::Get => stored.get(&store.key).map_or(StoreAnswer::Absent, |value| StoreAnswer::Found(value)),
        StoreOperation::Delete => {
            stored.remove(&store.key);
            StoreAnswer::Done
        }
    }
}

/// The engine of a configuration, as the gateway has it. A secret for the store is made by some hosts themselves.
pub(crate) fn engine(configuration: &[u8], name: &str) -> Result<Arc<Engine>, String> {
    let secret = Setting { name: "store_secret", value: "the store of one run of the command line", is_default: true };
    let engine = Engine::with_settings(configuration, &[secret]).map_err(|e| format!("{name}: {e}"))?;
    for warning in engine.warnings() {
        eprintln!("keybound: {name}: {warning}");
    }
    Ok(Arc::new(engine))
}

/// The `error` of an OAuth response (RFC 6749 §5.2). Words only: a server that puts anything else there is not repeated.
fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = body.get("error")?.as_str()?;
    (code.len() <= 64 && code.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')).then(|| code.to_owned())
}
