//! A request of the operator's own to an authorization server, authenticated as the gateway's are.

use std::sync::Arc;

use super::Engine;
use crate::client::introspection::{self, Introspected};
use crate::reason::Reason;
use crate::steps::{
    Ask, Endpoint, Fetch, FetchAnswer, Host, Outcome, Refusal, Run, State, StateError, Store, StoreAnswer,
};

/// What the host does next.
pub enum CallStep<'c> {
    /// It is over: the body of the answer, or why there is none.
    Done(Result<&'c [u8], &'c Refusal>),
    /// As in [`super::Step::Fetch`].
    Fetch(&'c Fetch),
    /// As in [`super::Step::Store`].
    Store(&'c Store),
}

/// A request, with what has to be learnt before it.
pub struct Call(Run<Vec<u8>>);

impl Call {
    /// What the host does next.
    pub fn step(&self) -> CallStep<'_> {
        match self.0.state() {
            State::Done(outcome) => CallStep::Done(outcome.as_deref()),
            State::Waiting(Ask::Fetch(fetch), _) => CallStep::Fetch(fetch),
            State::Waiting(Ask::Store(store), _) => CallStep::Store(store),
        }
    }

    /// Takes the answer to [`CallStep::Fetch`], at `now` in Unix seconds.
    ///
    /// # Errors
    /// The step is another one; nothing changes.
    pub fn fetched(&mut self, now: i64, answer: FetchAnswer<'_>) -> Result<(), StateError> {
        self.0.fetched(now, answer)
    }

    /// Takes the answer to [`CallStep::Store`], at `now` in Unix seconds.
    ///
    /// # Errors
    /// The step is another one; nothing changes.
    pub fn stored(&mut self, now: i64, answer: StoreAnswer<'_>) -> Result<(), StateError> {
        self.0.stored(now, answer)
    }
}

impl Engine {
    /// Asks the issuer at this place of the configuration about a token (RFC 7662): its response, or `{"active":false}`. Nothing is decided.
    pub fn call_introspection(self: &Arc<Self>, issuer: usize, token: &str, now: i64) -> Call {
        let (engine, token) = (Arc::clone(self), token.to_owned());
        Call(Run::begin(now, |host| async move {
            let server = engine.servers.get(issuer).ok_or(Reason::InternalError)?;
            match server.introspect(&host, &token).await?.said {
                Introspected::Active(said) => Ok(said),
                Introspected::Inactive => Ok(br#"{"active":false}"#.to_vec()),
            }
        }))
    }

    /// Makes a token request (RFC 6749 §3.2) with these parameters, `grant_type` among them: the response.
    pub fn call_token(self: &Arc<Self>, issuer: usize, parameters: Vec<(String, String)>, now: i64) -> Call {
        let engine = Arc::clone(self);
        Call(Run::begin(now, |host| async move { engine.call(&host, issuer, Endpoint::Token, parameters).await }))
    }

    /// Revokes a token (RFC 7009 §2.1). `hint` is `access_token` or `refresh_token`.
    pub fn call_revocation(self: &Arc<Self>, issuer: usize, token: &str, hint: Option<&str>, now: i64) -> Call {
        let mut form = vec![("token".to_owned(), token.to_owned())];
        form.extend(hint.map(|hint| ("token_type_hint".to_owned(), hint.to_owned())));
        let engine = Arc::clone(self);
        Call(Run::begin(now, |host| async move { engine.call(&host, issuer, Endpoint::Revocation, form).await }))
    }

    async fn call(
        &self,
        host: &Host,
        issuer: usize,
        endpoint: Endpoint,
        form: Vec<(String, String)>,
    ) -> Result<Vec<u8>, Refusal> {
        let server = self.servers.get(issuer).ok_or(Reason::InternalError)?;
        let fetched = server.call_alone(host, endpoint, form).await?;
        if introspection::is_client_refused(&fetched) {
            return Err(introspection::client_refused(endpoint, &fetched));
        }
        match (fetched.outcome, fetched.status) {
            (Outcome::Answered, 200) => Ok(fetched.body),
            (Outcome::Answered, status) => Err(Refusal::new(
                Reason::ServerUnavailable,
                format!("the {} endpoint answered {status}", endpoint.name()),
            )),
            (outcome, _) => Err(Refusal::new(
                Reason::ServerUnavailable,
                format!("the {} endpoint: {}", endpoint.name(), outcome.name()),
            )),
        }
    }
}
