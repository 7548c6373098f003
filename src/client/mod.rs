//! The gateway as a client of its authorization servers: metadata, keys, introspection, client authentication. What is to be
//! sent is handed to the host as steps; nothing here does I/O.

pub(crate) mod assertion;
pub(crate) mod auth;
pub(crate) mod authorization;
mod grant;
pub mod http;
pub(crate) mod id_token;
pub(crate) mod introspection;
pub(crate) mod keys;
pub(crate) mod metadata;
pub(crate) mod shared;
pub(crate) mod token_response;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::jose::jwk::JwkSet;
use crate::metrics::Metrics;
use crate::reason::Reason;
use crate::steps::{Endpoint, Fetch, Fetched, Host, Outcome, Refusal, Timeouts};
use auth::ClientAuth;
pub(crate) use grant::TokenSet;
use introspection::IntrospectionSetup;
use keys::Keys;
use metadata::Metadata;
use shared::{Domain, Shared};

/// Largest answer of an authorization server, in bytes.
pub(crate) const MAX_ANSWER: usize = 256 * 1024;
/// How long a server that says nothing else is left alone after it failed, in seconds, while there is nothing to fall back on.
const RETRY_S: i64 = 1;
/// How long a server that answered is thought to be there, in seconds.
const REACHED_S: i64 = 10;
/// Longest wait that a server's `Retry-After` is granted, in seconds.
const MAX_RETRY_S: u32 = 60;

/// How long what was fetched is used, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// `keys_max_age`: then it is fetched again
    pub(crate) max_age: i64,
    /// `keys_max_stale`: how old it may get while it cannot be fetched
    pub(crate) max_stale: i64,
    /// `rediscovery_lifetime`: between two fetches for a key that is not there
    pub(crate) cool_down: i64,
}

impl Lifetimes {
    /// Longest that a server is left alone after a failure, in seconds.
    fn longest_wait(&self) -> i64 {
        self.cool_down.max(i64::from(MAX_RETRY_S))
    }
}

/// An endpoint that the gateway authenticates at, as configured.
#[derive(Clone)]
pub(crate) struct EndpointSetup {
    pub(crate) url: Option<String>,
    pub(crate) mtls_url: Option<String>,
    pub(crate) auth: ClientAuth,
    /// The TLS profile, and whether it has a client certificate.
    pub(crate) tls: usize,
    pub(crate) mutual: bool,
}

/// One authorization server, as configured.
pub(crate) struct ServerSetup {
    pub(crate) issuer: String,
    /// Tells the issuer, and how what comes from it is verified, from all others: for the keys of the store.
    pub(crate) trust: [u8; 32],
    pub(crate) jwks: Option<JwkSet>,
    pub(crate) jwks_uri: Option<String>,
    /// `endpoint_hosts`: besides the issuer's own, the hosts that metadata may name.
    pub(crate) hosts: Vec<String>,
    /// The TLS profile of requests for metadata and keys.
    pub(crate) tls: usize,
    /// At the introspection, token and revocation endpoint, and at that of pushed requests; `None` without `client_id`.
    pub(crate) client: Option<[EndpointSetup; 4]>,
    pub(crate) introspection: Option<IntrospectionSetup>,
}

/// One authorization server, and what was learnt of it.
pub(crate) struct Server {
    pub(crate) issuer: String,
    /// Its place in the configuration.
    place: usize,
    pub(crate) trust: [u8; 32],
    jwks_uri: Option<String>,
    hosts: Vec<String>,
    tls: usize,
    client: Option<[EndpointSetup; 4]>,
    pub(crate) introspection: Option<IntrospectionSetup>,
    pub(crate) keys: Keys,
    learnt: Mutex<Learnt>,
    pub(crate) timeouts: Timeouts,
    lifetimes: Lifetimes,
    pub(crate) shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Learnt {
    metadata: Option<(Arc<Metadata>, i64)>,
    /// Not before this time is metadata asked for again.
    next_metadata: i64,
    /// What the metadata says did not work: it is asked for again as soon as it may.
    doubted: bool,
    /// Not before this time is introspection asked for again: the server said so.
    next_introspection: i64,
}

impl Server {
    /// Whether the gateway is a client there.
    pub(crate) fn has_client(&self) -> bool {
        self.client.is_some()
    }

    pub(crate) fn new(
        setup: ServerSetup,
        place: usize,
        timeouts: Timeouts,
        lifetimes: Lifetimes,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
    ) -> Server {
        Server {
            keys: Keys::new(setup.jwks, lifetimes),
            issuer: setup.issuer,
            place,
            trust: setup.trust,
            jwks_uri: setup.jwks_uri,
            hosts: setup.hosts,
            tls: setup.tls,
            client: setup.client,
            introspection: setup.introspection,
            learnt: Mutex::default(),
            timeouts,
            lifetimes,
            shared,
            metrics,
        }
    }

    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        // Nothing that can panic runs under the lock.
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request for a document of the server itself.
    fn document(&self, endpoint: Endpoint, url: &str) -> Fetch {
        Fetch {
            method: "GET",
            url: url.to_owned(),
            headers: vec![("accept".into(), "application/json".into())],
            body: Vec::new(),
            tls: self.tls,
            max_body: MAX_ANSWER,
            timeouts: self.timeouts,
            flight: shared::hash(Domain::Document, &[url.as_bytes(), &self.place.to_be_bytes()]),
            server: self.place,
            endpoint,
            once: false,
        }
    }

    /// An authenticated request (RFC 6749 §2.3, RFC 8705 §2) at the introspection, token or revocation endpoint.
    pub(crate) async fn call(
        &self,
        host: &Host,
        endpoint: Endpoint,
        form: Vec<(String, String)>,
        headers: Vec<(String, String)>,
        flight: [u8; 32],
    ) -> Result<Fetched, Refusal> {
        self.call_as(host, None, endpoint, form, headers, flight).await
    }

    /// Likewise by another client, if there is one, over the gateway's connection.
    async fn call_as(
        &self,
        host: &Host,
        auth: Option<&ClientAuth>,
        endpoint: Endpoint,
        mut form: Vec<(String, String)>,
        mut headers: Vec<(String, String)>,
        flight: [u8; 32],
    ) -> Result<Fetched, Refusal> {
        let setup = self.endpoint(endpoint)?;
        let url = self.url(host, endpoint, setup).await?;
        auth.unwrap_or(&setup.auth).apply(&self.issuer, host.now(), &mut form, &mut headers)?;
        headers.push(("content-type".into(), "application/x-www-form-urlencoded".into()));
        let fetch = Fetch {
            method: "POST",
            url,
            headers,
            body: form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish().into_bytes(),
            tls: setup.tls,
            max_body: MAX_ANSWER,
            timeouts: self.timeouts,
            flight,
            server: self.place,
            endpoint,
            // Codes and refresh tokens are good once (RFC 6749 §10.5, RFC 9700 §4.14.2).
            once: endpoint == Endpoint::Token,
        };
        let fetched = self.send(host, fetch).await;
        self.doubt_metadata(&fetched, host.now());
        Ok(fetched)
    }

    fn endpoint(&self, endpoint: Endpoint) -> Result<&EndpointSetup, Refusal> {
        let [introspection, token, revocation, par] = self.client.as_ref().ok_or_else(|| {
            Refusal::new(Reason::ClientRefused, format!("no client_id is configured for the issuer {}", self.issuer))
        })?;
        match endpoint {
            Endpoint::Introspection => Ok(introspection),
            Endpoint::Token => Ok(token),
            Endpoint::Revocation => Ok(revocation),
            Endpoint::Par => Ok(par),
            Endpoint::Metadata | Endpoint::Jwks => Err(Reason::InternalError.into()),
        }
    }

    /// Where an endpoint is: as configured, else as the metadata says, and there the alias for mutual TLS first (RFC 8705 §5).
    async fn url(&self, host: &Host, endpoint: Endpoint, setup: &EndpointSetup) -> Result<String, Refusal> {
        let configured = setup.mtls_url.as_ref().filter(|_| setup.mutual).or(setup.url.as_ref());
        match configured {
            Some(url) => Ok(url.clone()),
            None => {
                let url = self.metadata(host).await?.endpoint(endpoint, setup.mutual);
                if url.is_err() {
                    self.learnt().doubted = true;
                }
                url
            }
        }
    }

    /// An endpoint that is not where the metadata said: it may have moved.
    fn doubt_metadata(&self, fetched: &Fetched, now: i64) {
        if fetched.outcome == Outcome::Answered && matches!(fetched.status, 404 | 405 | 410) {
            let mut learnt = self.learnt();
            let known = learnt.metadata.as_ref().is_some_and(|(_, at)| *at < now);
            learnt.doubted |= known;
        }
    }

    async fn send(&self, host: &Host, fetch: Fetch) -> Fetched {
        let endpoint = fetch.endpoint;
        let fetched = host.fetch(fetch).await;
        if !fetched.joined {
            self.metrics.fetched(self.place, endpoint, &fetched);
        }
        fetched
    }

    /// The server's metadata, fetched when it is needed and not known well enough.
    pub(crate) async fn metadata(&self, host: &Host) -> Result<Arc<Metadata>, Refusal> {
        let known = |learnt: &Learnt, max_age: i64, now: i64| {
            learnt.metadata.as_ref().filter(|(_, at)| is_younger(*at, max_age, now)).map(|(m, _)| Arc::clone(m))
        };
        let now = host.now();
        let doubted = {
            let learnt = self.learnt();
            let may_ask = !waits(now, learnt.next_metadata, self.lifetimes.longest_wait());
            let doubted = learnt.doubted && may_ask;
            if !doubted && let Some(metadata) = known(&learnt, self.lifetimes.max_age, now) {
                return Ok(metadata);
            }
            if !may_ask {
                return known(&learnt, self.lifetimes.max_stale, now)
                    .ok_or_else(|| Refusal::new(Reason::MetadataUnavailable, "it could not be fetched a moment ago"));
            }
            doubted
        };
        let key = shared::hash(Domain::Metadata, &[&self.trust]);
        let stored = if doubted { None } else { self.shared.read(host, key).await };
        let stored = stored.and_then(|(at, body)| Some((Metadata::parse(&body, &self.issuer, &self.hosts).ok()?, at)));
        if let Some((metadata, at)) = stored {
            let metadata = Arc::new(metadata);
            self.learnt().metadata = Some((Arc::clone(&metadata), at));
            if is_younger(at, self.lifetimes.max_age, now) {
                return Ok(metadata);
            }
        }
        let failure = match self.discover(host).await {
            Ok((metadata, body)) => {
                let metadata = Arc::new(metadata);
                {
                    let mut learnt = self.learnt();
                    learnt.metadata = Some((Arc::clone(&metadata), now));
                    // Asked for because of a doubt, it is not asked for again at once.
                    learnt.next_metadata = if doubted { now.saturating_add(self.lifetimes.cool_down) } else { 0 };
                    learnt.doubted = false;
                }
                self.shared.write(host, key, now, &body, self.lifetimes.max_stale).await;
                return Ok(metadata);
            }
            Err(failure) => failure,
        };
        let mut learnt = self.learnt();
        let stale = known(&learnt, self.lifetimes.max_stale, now);
        let wait = if stale.is_some() { self.lifetimes.cool_down } else { RETRY_S };
        learnt.next_metadata = now.saturating_add(failure.retry.unwrap_or(wait));
        stale.ok_or_else(|| Refusal::new(Reason::MetadataUnavailable, failure.detail))
    }

    /// The metadata of a server that answered a moment ago: a browser that is sent to one that does not answer sees no page at all.
    pub(crate) async fn reached_metadata(&self, host: &Host) -> Result<Arc<Metadata>, Refusal> {
        let now = host.now();
        {
            let learnt = self.learnt();
            if let Some((metadata, at)) = &learnt.metadata
                && is_younger(*at, REACHED_S, now)
            {
                return Ok(Arc::clone(metadata));
            }
            if waits(now, learnt.next_metadata, self.lifetimes.longest_wait()) {
                return Err(Refusal::new(Reason::MetadataUnavailable, "it could not be fetched a moment ago"));
            }
        }
        match self.discover(host).await {
            Ok((metadata, _)) => {
                let metadata = Arc::new(metadata);
                let mut learnt = self.learnt();
                learnt.metadata = Some((Arc::clone(&metadata), host.now()));
                (learnt.next_metadata, learnt.doubted) = (0, false);
                Ok(metadata)
            }
            Err(failure) => {
                self.learnt().next_metadata = host.now().saturating_add(failure.retry.unwrap_or(RETRY_S));
                Err(Refusal::new(Reason::MetadataUnavailable, failure.detail))
            }
        }
    }

    /// Asks where OpenID Connect puts the document, then where RFC 8414 does: whatever the first answers, if it is no metadata, may be a
    /// page for people.
    async fn discover(&self, host: &Host) -> Result<(Metadata, Vec<u8>), Failure> {
        let mut failed = Vec::new();
        for url in metadata::urls(&self.issuer) {
            let fetched = self.send(host, self.document(Endpoint::Metadata, &url)).await;
            let why = match Failure::of(&fetched, "application/json") {
                None => match Metadata::parse(&fetched.body, &self.issuer, &self.hosts) {
                    Ok(metadata) => return Ok((metadata, fetched.body)),
                    Err(why) => why,
                },
                Some(failure) => {
                    if fetched.outcome != Outcome::Answered || matches!(fetched.status, 429 | 503) {
                        return Err(Failure { detail: format!("{url}: {}", failure.detail), ..failure });
                    }
                    failure.detail
                }
            };
            failed.push(format!("{url}: {why}"));
        }
        Err(Failure { detail: failed.join("; "), retry: None })
    }
}

/// Whether it is too early for what may be done at `next`. A time further ahead than the `longest` wait is one of a clock that was set
/// back since.
fn waits(now: i64, next: i64, longest: i64) -> bool {
    (1..=longest).contains(&next.saturating_sub(now))
}

/// Whether what was fetched `at` is less than `max_age` seconds old. A clock that was set back a little makes nothing old; one that
/// was set back far would keep it for ever.
fn is_younger(at: i64, max_age: i64, now: i64) -> bool {
    let age = now.saturating_sub(at);
    (-60..max_age).contains(&age)
}

/// Why an answer is of no use.
struct Failure {
    detail: String,
    /// How long the server wants to be left alone, in seconds.
    retry: Option<i64>,
}

impl Failure {
    /// What is wrong with an answer that should be a 200 with this media type.
    fn of(fetched: &Fetched, media_type: &str) -> Option<Failure> {
        let detail = match (fetched.outcome, fetched.status) {
            (Outcome::Answered, 200) if fetched.is(media_type) => return None,
            (Outcome::Answered, 200) => format!("the answer is not {media_type}"),
            (Outcome::Answered, status) => format!("status {status}"),
            (Outcome::Resolve, _) => "the name could not be resolved".into(),
            (Outcome::Connect, _) => "no connection".into(),
            (Outcome::Tls, _) => "no TLS connection, or the server's certificate is not trusted".into(),
            (Outcome::Timeout, _) => "no answer in time".into(),
            (Outcome::Malformed, _) => "the answer is not HTTP, or ended early".into(),
            (Outcome::TooLarge, _) => format!("the answer is larger than {MAX_ANSWER} bytes"),
            (Outcome::Busy, _) => "too many requests are under way".into(),
        };
        let retry = fetched.retry_after.filter(|_| matches!(fetched.status, 429 | 503));
        Some(Failure { detail, retry: retry.map(|s| i64::from(s.clamp(1, MAX_RETRY_S))) })
    }
}
