//! One request through the gateway: facts in, decision and answer out.

mod cache;
mod call;
mod check;
pub(crate) mod config;
mod http;
mod login;
mod proof;
mod public;
mod respond;
mod servers;
mod settings;
mod verify;

use std::sync::{Arc, Mutex};

pub use call::{Call, CallStep};
pub use check::{Check, Granted, Step};
pub use config::{Config, ConfigError, OPTIONS, OptionDoc, document as configuration_document};
pub use http::{HEADERS, Http};
pub use public::Address;
pub use servers::TlsProfile;
pub use settings::Setting;
pub use verify::{Verified, Verifier};

use crate::binding::dpop::Offered;
use crate::binding::{Bound, Held, Scheme};
use crate::cert::{ClientCertificate, Identity};
use crate::client::Server;
use crate::client::introspection::Introspected;
use crate::client::keys::Why;
use crate::client::shared::Shared;
use crate::crypto;
use crate::jose::jwk::SkippedKey;
use crate::jose::jws::{Compact, MAX_TOKEN};
use crate::jose::{b64, json};
use crate::metrics::{Counter, Metrics, Source};
use crate::reason::Reason;
use crate::steps::{Host, Refusal, Response, Run};
use crate::token::Facts;
use cache::{Known, Memory, Refused};
use login::Holder;
use login::config::Logins;
use proof::{Dpop, Taken};
use respond::{Headers, Responses, Wording};
use verify::Rules;

/// The facts of one request, borrowed from the host for one call.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Unix time, seconds
    pub now: i64,
    /// The value of the `Authorization` header, without white space around it
    pub authorization: Option<&'a [u8]>,
    /// How many `Authorization` headers came
    pub authorization_count: u32,
    /// The query of the request target, without `?`
    pub query: &'a [u8],
    /// The certificate of the connection
    pub certificate: ClientCertificate<'a>,
    /// Whether the request came before the handshake was complete (TLS 1.3 early data)
    pub early_data: bool,
    /// What a login, a session or a proof needs besides; `None` only where [`Engine::needs_http`] is false
    pub http: Option<&'a Http<'a>>,
}

impl Request<'_> {
    /// How it sends a token; one without sends none with [`Scheme::Bearer`].
    pub(crate) fn scheme(&self) -> Scheme {
        self.authorization.and_then(split_scheme).map_or(Scheme::Bearer, |(scheme, _)| scheme)
    }

    /// What names the token in logs: the first four octets of its SHA-256. 0 where there is none; the credentials of another scheme
    /// may be a password, which could be guessed by it.
    pub fn token_id(&self) -> u32 {
        let rest = self.authorization.and_then(|value| match split_scheme(value)? {
            (_, rest @ [b' ', ..]) => Some(rest),
            _ => None,
        });
        let token = rest.and_then(|rest| rest.rsplit(|c| *c == b' ').next()).filter(|t| !t.is_empty());
        token.and_then(|token| crypto::sha256(token).first_chunk().copied()).map_or(0, u32::from_be_bytes)
    }
}

/// Layer 3: decides about requests. May be shared by threads; two that meet in the cache do not wait for each other.
pub struct Engine {
    rules: Rules,
    /// Of each issuer of the rules.
    servers: Vec<Server>,
    tls: Vec<TlsProfile>,
    bearer: bool,
    introspection: bool,
    introspect_jwt: bool,
    shares: bool,
    responses: Responses,
    headers: Headers,
    changes_headers: bool,
    report_only: bool,
    display_errors: bool,
    /// Sessions, logins and grants, if there are any.
    logins: Option<Logins>,
    /// How proofs are taken, if they are.
    dpop: Option<Dpop>,
    /// What workers and nodes share.
    shared: Arc<Shared>,
    /// Of this engine alone: what it remembers of credentials is of no use to others.
    salt: [u8; 32],
    skipped_keys: Vec<SkippedKey>,
    metrics: Arc<Metrics>,
    /// Facts that cost much to learn. Only ever tried, never waited for: who finds it taken does the work anew.
    memory: Mutex<Memory>,
}

/// What [`Engine::decide`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "anything but Allow and Report is a refusal"]
pub enum Decision {
    /// The request goes on.
    Allow,
    /// The request goes on although it is refused: the engine only reports (`report_only`).
    Report(Reason),
    /// The request is refused; [`Engine::response`] has the answer.
    Refuse(Reason),
    /// There are steps to take; [`Engine::begin`] knows which.
    Steps,
}

/// How often keys are fetched or taken over for one request.
const MAX_TRIES: u32 = 4;

/// How far the clock may be set back, in seconds, before what was remembered is of no more use.
const CLOCK: i64 = 60;

/// Why a decision is not made yet.
enum Stop {
    Refuse(Reason),
    /// The keys of this issuer are needed first; if they change nothing, the reason stands.
    Keys(usize, Why, Reason),
    /// This issuer is to be asked about the token; a JWT's own facts and claims go with it.
    Introspect(usize, Option<Box<Jwt>>),
    /// There is a proof to be taken, whatever else.
    Proof,
    /// There is none that could be taken.
    NoProof,
}

impl Stop {
    /// Whatever else is wrong with it: what is no token68 is no token but a malformed header.
    fn of(self, token: &[u8]) -> Stop {
        if is_token68(token) { self } else { Reason::MalformedAuthorization.into() }
    }
}

/// What a verified JWT says itself.
struct Jwt {
    facts: Facts,
    claims: Vec<u8>,
    /// How long the keys that verified it are good, and their epoch.
    until: i64,
    epoch: u32,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Stop {
        Stop::Refuse(reason)
    }
}

/// What a request shows for itself, as a flow keeps it.
struct Shown {
    scheme: Scheme,
    token: Vec<u8>,
    /// With [`Scheme::Dpop`]: the proof, or what is wrong with it
    offered: Option<Result<Offered, Refusal>>,
    /// [`Http::id`]
    request: Vec<u8>,
}

/// The token of one request and who sent it.
struct Subject<'a> {
    token: &'a [u8],
    identity: Option<Identity>,
    holder: Holder,
    offered: Option<&'a Result<Offered, Refusal>>,
    request: &'a [u8],
}

/// A request whose token is good.
struct Judged {
    held: Held,
    claims: Vec<u8>,
}

/// An allowed request.
struct Passed {
    bound: Bound,
    claims: Vec<u8>,
    /// The nonce that the client should use from now on
    nonce: Option<String>,
    /// [`Taken::spent`]
    spent: Option<Vec<u8>>,
    /// Nobody will notice if its proof comes again.
    is_unremembered: bool,
}

impl Passed {
    fn without_proof(judged: Judged) -> Result<Passed, Reason> {
        let Judged { held, claims } = judged;
        Ok(Passed { bound: held.bound()?, claims, nonce: None, spent: None, is_unremembered: false })
    }
}

/// What is to be counted of a decision.
struct Tally {
    issuer: usize,
    source: Source,
}

impl Tally {
    /// Before anything is known.
    const NONE: Tally = Tally { issuer: usize::MAX, source: Source::None };
}

impl Engine {
    /// Makes an engine from a configuration in JSON.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(config: &[u8]) -> Result<Engine, ConfigError> {
        Engine::of(Config::parse(config)?)
    }

    /// Likewise, with options that the host has by its own means.
    ///
    /// # Errors
    /// The configuration is refused, or an option is.
    pub fn with_settings(config: &[u8], settings: &[Setting<'_>]) -> Result<Engine, ConfigError> {
        Engine::of(Config::parse(&settings::apply(config, settings)?)?)
    }

    fn of(config: Config) -> Result<Engine, ConfigError> {
        let issuers = config.servers.iter().map(|server| server.issuer.clone()).collect();
        let metrics = Arc::new(Metrics::new(issuers, config.report_only));
        let shares = config.store_secret.is_some();
        let shared = Arc::new(Shared::new(config.store_secret));
        let server = |(place, setup)| {
            let (shared, metrics) = (Arc::clone(&shared), Arc::clone(&metrics));
            Server::new(setup, place, config.timeouts, config.lifetimes, shared, metrics)
        };
        let scopes = config.rules.scopes();
        let wording = Wording {
            realm: config.realm.as_deref(),
            scopes: scopes.as_deref(),
            expose_error_code: config.expose_error_code,
            display_errors: config.display_errors,
            unauthorized: &config.unauthorized_message,
            forbidden: &config.forbidden_message,
            algs: config.dpop.as_ref().map(Dpop::algs),
            accepts_bearer: config.rules.possession.accepts_bearer(),
        };
        Ok(Engine {
            responses: Responses::new(&wording),
            servers: config.servers.into_iter().enumerate().map(server).collect(),
            rules: config.rules,
            tls: config.tls,
            bearer: config.bearer,
            introspection: config.introspection,
            introspect_jwt: config.introspect_jwt,
            shares,
            changes_headers: !config.headers.is_empty(),
            headers: config.headers,
            report_only: config.report_only,
            display_errors: config.display_errors,
            logins: config.logins,
            dpop: config.dpop,
            shared,
            salt: crypto::random().ok_or_else(ConfigError::no_randomness)?,
            skipped_keys: config.skipped_keys,
            metrics,
            memory: Mutex::new(Memory::new(config.cache_entries, config.cache_bytes)),
        })
    }

    /// Whether a decision can need a certificate.
    pub fn needs_certificate(&self) -> bool {
        self.rules.needs_certificate()
    }

    /// What the operator should know of the configuration: keys of configured sets that are skipped, checks that are off.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let unverified = self.tls.iter().any(|profile| !profile.verify).then(|| {
            "ssl_verify or tls_client_auth_ssl_verify is false: whoever is on the way can be the authorization server".to_owned()
        });
        let reported = self.report_only.then(|| {
            "report_only is true: nothing is refused; what would be refused is logged and counted, and passes"
                .to_owned()
        });
        let replayed = self.dpop.as_ref().is_some_and(Dpop::ignores_replay).then(|| {
            "insecure_dpop_replay is true: a proof that somebody has seen can be used again while it is fresh, without a store or while it fails"
                .to_owned()
        });
        let tossed = self.logins.as_ref().and_then(|logins| logins.sessions.as_ref());
        let tossed = tossed.filter(|sessions| !sessions.cookie.starts_with("__Host-")).map(|_| {
            "session_cookie_name does not begin with __Host-: hosts of the same domain can set cookies of that name"
                .to_owned()
        });
        self.skipped_keys
            .iter()
            .map(ToString::to_string)
            .chain(unverified)
            .chain(reported)
            .chain(replayed)
            .chain(tossed)
    }

    /// Keys of fetched sets that are skipped, and why, as they are now.
    pub fn skipped_fetched_keys(&self) -> impl Iterator<Item = (&str, SkippedKey)> {
        self.servers
            .iter()
            .flat_map(|server| server.keys.skipped().into_iter().map(|key| (server.issuer.as_str(), key)))
    }

    /// How the host connects to authorization servers: [`crate::steps::Fetch::tls`] is a place in this list.
    pub fn tls_profiles(&self) -> &[TlsProfile] {
        &self.tls
    }

    /// The issuers, in the order of [`crate::steps::Fetch::server`].
    pub fn issuers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.servers.iter().map(|server| server.issuer.as_str())
    }

    /// Whether an authorization server is asked: for keys, about tokens, or for some.
    pub fn fetches(&self) -> bool {
        self.introspection
            || (self.bearer && self.servers.iter().any(|server| !server.keys.is_fixed()))
            || (self.logins.is_some() && self.servers.iter().any(Server::has_client))
    }

    /// How the gateway gets a request for a public URL; `None` where that is not absolute, or not below `public_path_prefix`.
    pub fn address(&self, url: &str) -> Option<Address> {
        self.dpop.as_ref().map_or_else(|| Address::of(url), |dpop| dpop.public.address(url))
    }

    /// Whether a decision is made from [`Request::http`], too: there are logins, sessions, grants or proofs.
    pub fn needs_http(&self) -> bool {
        self.logins.is_some() || self.dpop.is_some()
    }

    /// Whether proofs are taken.
    pub fn needs_proof(&self) -> bool {
        self.dpop.is_some()
    }

    /// Whether clients are given nonces: one of the upstream's beside them would be good for nothing.
    pub fn gives_nonces(&self) -> bool {
        self.dpop.as_ref().is_some_and(|dpop| dpop.proofs.nonces.is_some())
    }

    /// Whether only [`Engine::begin`] decides: there are logins, sessions or grants.
    pub fn needs_check(&self) -> bool {
        self.logins.is_some()
    }

    /// Whether credentials are taken from the body of a form (`application/x-www-form-urlencoded`).
    pub fn needs_form(&self) -> bool {
        let takes_body = |places: &Option<login::config::Places>| places.is_some_and(|places| places.body);
        self.logins
            .as_ref()
            .is_some_and(|logins| takes_body(&logins.password) || takes_body(&logins.client_credentials))
    }

    /// Whether the shared store is needed: to notice a login or a proof that comes twice, a logout and a refresh elsewhere.
    pub fn needs_store(&self) -> bool {
        self.logins.as_ref().is_some_and(|logins| logins.sessions.is_some())
            || self.dpop.as_ref().is_some_and(|dpop| !dpop.ignores_replay())
    }

    /// Whether steps can ask for the shared store: `store_secret` is configured.
    pub fn shares(&self) -> bool {
        self.shares
    }

    /// What each of [`Engine::counters`] counts.
    pub fn describe_counters(&self) -> Vec<Counter> {
        self.metrics.describe()
    }

    /// The counters, which only ever grow.
    pub fn counters(&self) -> impl Iterator<Item = u64> {
        self.metrics.values()
    }

    /// Whether what would be refused passes (`report_only`). A host that refuses by itself has to look at it by itself.
    pub fn report_only(&self) -> bool {
        self.report_only
    }

    /// Counts a request that the host refused itself: as a report, where the engine only reports.
    pub fn count_refusal(&self, reason: Reason) {
        self.metrics.decided(Tally::NONE.issuer, Source::None, reason);
    }

    /// The headers that an allowed request may carry upstream. The host removes them from every request first, on every path.
    pub fn upstream_header_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.headers.upstream.iter().map(|h| h.name.as_ref())
    }

    /// Whether each allowed request has headers to be set or removed, which [`Engine::begin`] tells. One with a proof has them in any case.
    pub fn changes_headers(&self) -> bool {
        self.changes_headers
    }

    /// The answer to a request that was refused for `reason`, and had no credentials, or those of the scheme `Bearer`.
    pub fn response(&self, reason: Reason) -> &Response {
        self.response_to(Scheme::Bearer, reason)
    }

    /// The answer to a request with this scheme that was refused for `reason`.
    pub fn response_to(&self, scheme: Scheme, reason: Reason) -> &Response {
        self.responses.of(scheme, reason)
    }

    /// Decides at once, without claims and headers. Allocates nothing where the token is remembered.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        match self.at_once(request) {
            Ok(()) => Decision::Allow,
            Err(Some(reason)) if self.report_only => Decision::Report(reason),
            Err(Some(reason)) => Decision::Refuse(reason),
            Err(None) => Decision::Steps,
        }
    }

    /// What comes of a request, whatever is to be done then; `None`: there are steps to take. A result that fits a register.
    pub(crate) fn at_once(&self, request: &Request<'_>) -> Result<(), Option<Reason>> {
        if self.logins.is_some() {
            return Err(None);
        }
        let mut tally = Tally::NONE;
        let reason = match self.evaluate(request, false, &mut tally) {
            Ok(Judged { held: Held::Bound(_), .. }) => Reason::Allowed,
            Ok(Judged { held: Held::ToProve(_), .. }) => Reason::ProofMissing,
            Err(Stop::Refuse(reason)) => reason,
            Err(_) => return Err(None),
        };
        self.metrics.decided(tally.issuer, tally.source, reason);
        if reason == Reason::Allowed { Ok(()) } else { Err(Some(reason)) }
    }

    /// Decides with claims and headers for the upstream, as a check that may have steps to take.
    pub fn begin(self: &Arc<Self>, request: &Request<'_>) -> Check {
        if self.logins.is_some() {
            return self.begin_visit(request);
        }
        let mut tally = Tally::NONE;
        let outcome = match self.evaluate(request, true, &mut tally) {
            Ok(judged) => Passed::without_proof(judged),
            Err(Stop::Refuse(reason)) => Err(reason),
            Err(stop) => return self.begin_flow(request, stop),
        };
        self.metrics.decided(tally.issuer, tally.source, outcome.as_ref().map_or_else(|r| *r, |_| Reason::Allowed));
        let outcome = outcome.map(|passed| self.grant(passed, None)).map_err(Refusal::from);
        Check::new(Arc::clone(self), request.scheme(), Run::done(outcome))
    }

    /// What a request shows for itself.
    fn shown(&self, request: &Request<'_>) -> Result<Shown, Reason> {
        let (scheme, token) = self.credentials(request)?;
        let dpop = self.dpop.as_ref().filter(|_| scheme == Scheme::Dpop);
        let request_id = request.http.map(|http| http.id).filter(|_| dpop.is_some()).unwrap_or_default();
        Ok(Shown {
            scheme,
            token: token.to_vec(),
            offered: dpop.map(|dpop| dpop.read(&self.shared, request, token)),
            request: request_id.to_vec(),
        })
    }

    fn begin_flow(self: &Arc<Self>, request: &Request<'_>, stop: Stop) -> Check {
        let shown = self.shown(request).and_then(|shown| Ok((shown, self.rules.identity(request.certificate)?)));
        let engine = Arc::clone(self);
        let run = Run::begin(request.now, |host| async move {
            let mut tally = Tally { source: Source::Miss, ..Tally::NONE };
            let outcome = match &shown {
                Ok((shown, identity)) => {
                    let subject = Subject::of_client(shown, *identity);
                    engine.settle(&host, &subject, Some(stop), &mut tally).await
                }
                Err(reason) => Err((*reason).into()),
            };
            let reason = outcome.as_ref().map_or_else(|refusal| refusal.reason, |_| Reason::Allowed);
            engine.metrics.decided(tally.issuer, tally.source, reason);
            match outcome {
                Ok(passed) => Ok(engine.grant(passed, shown.as_ref().ok().map(|(shown, _)| shown))),
                Err(refusal) => Err(engine.with_nonce(refusal, host.now())),
            }
        });
        Check::new(Arc::clone(self), request.scheme(), run)
    }

    /// Decides about a token with as many steps as that takes, and takes the proof, if there has to be one.
    async fn settle(
        &self,
        host: &Host,
        subject: &Subject<'_>,
        stop: Option<Stop>,
        tally: &mut Tally,
    ) -> Result<Passed, Refusal> {
        let outcome = match stop {
            None => self.consider(subject, host.now(), tally),
            Some(Stop::Proof) => self.consider(subject, host.now(), tally).map_err(|stop| stop.of(subject.token)),
            Some(stop) => Err(stop),
        };
        let judged = match outcome {
            Ok(judged) => judged,
            Err(stop) => self.go_on(host, subject, stop, tally).await?,
        };
        match judged.held {
            Held::Bound(_) => Ok(Passed::without_proof(judged)?),
            Held::ToProve(key) => {
                let Taken { bound, nonce, spent, is_unremembered } = self.take_proof(host, subject, &key).await?;
                Ok(Passed { bound, claims: judged.claims, nonce, spent, is_unremembered })
            }
        }
    }

    fn grant(&self, passed: Passed, shown: Option<&Shown>) -> Granted {
        let Passed { bound, claims, nonce, spent, is_unremembered } = passed;
        let mut changes = self.changes_headers.then(|| Box::new(self.headers.of(&claims)));
        if let (Some(dpop), Some(Shown { scheme: Scheme::Dpop, token, .. })) = (&self.dpop, shown) {
            let changes = changes.get_or_insert_default();
            dpop.change(changes, token, self.headers.hide_credentials, false);
            changes.respond(nonce.map(proof::nonce_headers));
            changes.spent = spent;
        }
        let mut granted = Granted::new(bound, claims, changes);
        if is_unremembered {
            granted.note(proof::UNREMEMBERED.to_owned());
        }
        granted
    }

    fn evaluate(&self, request: &Request<'_>, claims: bool, tally: &mut Tally) -> Result<Judged, Stop> {
        let (scheme, token) = self.credentials(request)?;
        if request.early_data && (self.rules.needs_certificate() || self.dpop.is_some()) {
            return Err(Reason::EarlyData.into());
        }
        if scheme == Scheme::Dpop {
            return Err(Stop::Proof);
        }
        const HOLDER: Holder = Holder::Client(Scheme::Bearer);
        let certificate = self.certificate_bytes(request.certificate);
        let mut memory = self.memory.try_lock().ok();
        let identity = match certificate {
            None => self.rules.identity(request.certificate)?,
            Some(bytes) => match memory.as_mut().and_then(|memory| memory.identities.get(bytes)) {
                Some(identity) => Some(identity),
                None => {
                    drop(memory.take());
                    let identity = self.learn(request.certificate, bytes)?;
                    memory = self.memory.try_lock().ok();
                    identity
                }
            },
        };
        if let Some(known) = memory.as_mut().and_then(|memory| memory.tokens.get(token))
            && let Some(issuer) = self.holds(known, &HOLDER, request.now)
        {
            *tally = Tally { issuer, source: Source::Hit };
            let held = self.rules.check_request(&HOLDER, &known.facts, identity.as_ref(), request.now)?;
            let claims = match &known.claims {
                _ if !claims => Vec::new(),
                Some(kept) => kept.to_vec(),
                None => claims_of(token)?,
            };
            return Ok(Judged { held, claims });
        }
        drop(memory);
        tally.source = Source::Miss;
        let subject = Subject { token, identity, holder: HOLDER, offered: None, request: b"" };
        self.judge(&subject, request.now, tally).map_err(|stop| stop.of(token))
    }

    /// Decides about the token of a flow, as far as that goes without steps, and with its claims.
    fn consider(&self, subject: &Subject<'_>, now: i64, tally: &mut Tally) -> Result<Judged, Stop> {
        let Subject { token, identity, holder, .. } = subject;
        let remembered = self.memory.try_lock().ok().and_then(|mut memory| memory.tokens.get(token).cloned());
        let holds = remembered.and_then(|known| self.holds(&known, holder, now).map(|issuer| (known, issuer)));
        let Some((known, issuer)) = holds else {
            tally.source = Source::Miss;
            return self.judge(subject, now, tally);
        };
        *tally = Tally { issuer, source: Source::Hit };
        let held = self.rules.check_request(holder, &known.facts, identity.as_ref(), now)?;
        subject.check_proof(&held)?;
        let claims = match known.claims {
            Some(claims) => claims.into_vec(),
            None => claims_of(token)?,
        };
        Ok(Judged { held, claims })
    }

    /// Whether what is remembered of a token still holds: then the issuer's place.
    fn holds(&self, known: &Known, holder: &Holder, now: i64) -> Option<usize> {
        let issuer = usize::try_from(known.issuer).ok()?;
        let fits = match holder {
            Holder::Client(_) => !known.is_own,
            Holder::Gateway(_) => issuer == 0,
        };
        // Before it was learnt: the clock was set back, and by the clock it would be fresh for who knows how long.
        (fits
            && now < known.fresh_until
            && now >= known.since.saturating_sub(CLOCK)
            && self.servers.get(issuer)?.keys.epoch() == known.epoch)
            .then_some(issuer)
    }

    /// Decides about a token that is not remembered, as far as that goes without steps.
    fn judge(&self, subject: &Subject<'_>, now: i64, tally: &mut Tally) -> Result<Judged, Stop> {
        let Subject { token, identity, holder, .. } = subject;
        let identity = identity.as_ref();
        // What the gateway was given itself is verified if it can be, whatever clients may send.
        let verifies = self.bearer || matches!(holder, Holder::Gateway(_));
        if self.introspection && (!verifies || !Compact::is_like(token)) {
            if token.len() > MAX_TOKEN {
                return Err(Reason::TokenTooLarge.into());
            }
            tally.issuer = 0;
            // Whoever cannot be let in anyway causes no request.
            self.rules.foresee(holder, identity, now)?;
            if matches!(subject.offered, Some(Err(_))) {
                return Err(Stop::NoProof);
            }
            self.check_refused(token, now)?;
            return Err(Stop::Introspect(0, None));
        }
        let unverified = self.rules.policy.read(token)?;
        let (issuer, facts) = (unverified.issuer, unverified.facts);
        tally.issuer = issuer;
        // The gateway is a client of the first issuer alone: another's token is one that somebody else was given.
        if issuer != 0 && matches!(holder, Holder::Gateway(_)) {
            return Err(Reason::IssuerMismatch.into());
        }
        let held = self.rules.check_request(holder, &facts, identity, now)?;
        subject.check_proof(&held)?;
        let server = self.servers.get(issuer).ok_or(Reason::InternalError)?;
        let epoch = server.keys.epoch();
        let keys = server.keys.usable(now).map_err(|why| match why {
            Some(why) => Stop::Keys(issuer, why, Reason::KeysUnavailable),
            None => Reason::KeysUnavailable.into(),
        })?;
        let claims = self.rules.verify(unverified, &keys.set).map_err(|reason| match reason {
            Reason::KeyUnknown | Reason::SignatureInvalid => match server.keys.after(reason, now) {
                Ok(why) => Stop::Keys(issuer, why, reason),
                Err(reason) => reason.into(),
            },
            reason => reason.into(),
        })?;
        if self.introspect_jwt {
            self.check_refused(token, now)?;
            let jwt = Jwt { facts, claims, until: keys.until, epoch };
            return Err(Stop::Introspect(issuer, Some(Box::new(jwt))));
        }
        let is_own = !self.bearer && matches!(holder, Holder::Gateway(_));
        let fresh_until = keys.until;
        let known = Known { facts, since: now, fresh_until, is_own, issuer: issuer as u32, epoch, claims: None };
        self.remember(token, known, now);
        Ok(Judged { held, claims })
    }

    fn remember(&self, token: &[u8], known: Known, now: i64) {
        if let Ok(mut memory) = self.memory.try_lock() {
            memory.tokens.insert(token, known, now);
        }
    }

    fn check_refused(&self, token: &[u8], now: i64) -> Result<(), Reason> {
        let refused = self.memory.try_lock().ok().and_then(|mut memory| memory.refused.get(token).copied());
        match refused {
            Some(Refused { reason, since, until }) if now < until && now >= since.saturating_sub(CLOCK) => Err(reason),
            _ => Ok(()),
        }
    }

    /// Takes the steps that a decision needs.
    async fn go_on(
        &self,
        host: &Host,
        subject: &Subject<'_>,
        stop: Stop,
        tally: &mut Tally,
    ) -> Result<Judged, Refusal> {
        let begun = host.now();
        let mut stop = stop;
        // A load, and a refetch; each may at first take over what another worker has, from before the token perhaps. More would be a loop.
        let (mut tries, mut fetched) = (0, false);
        loop {
            match stop {
                Stop::Refuse(reason) => return Err(reason.into()),
                Stop::Proof | Stop::NoProof => return Err(subject.no_proof()),
                Stop::Introspect(issuer, jwt) => return self.introspect(host, subject, issuer, jwt, tally).await,
                Stop::Keys(issuer, why, reason) => {
                    tally.issuer = issuer;
                    let server = self.servers.get(issuer).ok_or(Reason::InternalError)?;
                    // Keys that were fetched for this very request need not be fetched once more.
                    if tries >= MAX_TRIES || (why == Why::Refetch && fetched && server.keys.fetched_since(begun)) {
                        return Err(server.keys.verdict(reason).into());
                    }
                    tries = tries.saturating_add(1);
                    fetched |= server.fetch_keys(host, why).await?;
                }
            }
            stop = match self.judge(subject, host.now(), tally) {
                Ok(judged) => return Ok(judged),
                Err(stop) => stop,
            };
        }
    }

    /// Asks the issuer about a token, and decides by what it says. A JWT's own facts hold besides.
    async fn introspect(
        &self,
        host: &Host,
        subject: &Subject<'_>,
        issuer: usize,
        jwt: Option<Box<Jwt>>,
        tally: &mut Tally,
    ) -> Result<Judged, Refusal> {
        tally.issuer = issuer;
        let server = self.servers.get(issuer).ok_or(Reason::InternalError)?;
        let setup = server.introspection.as_ref().ok_or(Reason::InternalError)?;
        let epoch = jwt.as_ref().map_or_else(|| server.keys.epoch(), |jwt| jwt.epoch);
        let token = std::str::from_utf8(subject.token).map_err(|_| Reason::MalformedAuthorization)?;
        let learned = server.introspect(host, token).await?;
        let now = host.now();
        let said = match learned.said {
            Introspected::Inactive => Err(Reason::TokenInactive),
            Introspected::Active(said) => {
                self.accept(issuer, &said, jwt.as_ref().map(|jwt| jwt.facts)).map(|facts| (facts, said))
            }
        };
        let (facts, said) = said.inspect_err(|reason| {
            let refused = Refused { reason: *reason, since: now, until: now.saturating_add(setup.ttl_neg) };
            if let Ok(mut memory) = self.memory.try_lock() {
                memory.tokens.remove(subject.token);
                memory.refused.insert(subject.token, refused, now);
            }
        })?;
        if learned.is_news {
            server.share(host, token, learned.at, &said, facts.expires).await;
        }
        let own_end = jwt.as_ref().map_or(i64::MAX, |jwt| jwt.until);
        let fresh_until = learned.at.saturating_add(setup.ttl).min(facts.expires).min(own_end);
        if now < fresh_until {
            // A JWT holds its claims itself.
            let claims = jwt.is_none().then(|| said.as_slice().into());
            let is_own = false;
            let known = Known { facts, since: learned.at, fresh_until, is_own, issuer: issuer as u32, epoch, claims };
            self.remember(subject.token, known, now);
        }
        let held = self.rules.check_request(&subject.holder, &facts, subject.identity.as_ref(), now)?;
        if let Err(stop) = subject.check_proof(&held) {
            return Err(match stop {
                Stop::Refuse(reason) => reason.into(),
                _ => subject.no_proof(),
            });
        }
        Ok(Judged { held, claims: jwt.map_or(said, |jwt| jwt.claims) })
    }

    /// Holds what the server says of an active token to the rules.
    fn accept(&self, issuer: usize, said: &[u8], jwt: Option<Facts>) -> Result<Facts, Reason> {
        let claims = json::parse_object(said).map_err(|_| Reason::ClaimsMalformed)?;
        let facts = self.rules.policy.introspected(issuer, &claims, jwt.is_some())?;
        match jwt {
            Some(own) => self.rules.authorize_present(&claims).and_then(|()| own.and(facts)),
            None => self.rules.authorize(&claims).map(|()| facts),
        }
    }

    /// The bytes of a certificate that is to be identified. They tell its form, so that the same bytes in the wrong one are not
    /// found among those that were right.
    fn certificate_bytes<'a>(&self, certificate: ClientCertificate<'a>) -> Option<&'a [u8]> {
        match certificate {
            ClientCertificate::Der(bytes @ [0x30, ..]) | ClientCertificate::Pem(bytes @ [b'-', ..]) => {
                self.rules.needs_certificate().then_some(bytes)
            }
            _ => None,
        }
    }

    /// Identifies a certificate, and remembers it by its bytes.
    fn learn(&self, certificate: ClientCertificate<'_>, bytes: &[u8]) -> Result<Option<Identity>, Reason> {
        let identity = self.rules.identity(certificate)?;
        if let Some(identity) = identity
            && let Ok(mut memory) = self.memory.try_lock()
        {
            memory.identities.insert(bytes, identity);
        }
        Ok(identity)
    }

    fn credentials<'a>(&self, request: &Request<'a>) -> Result<(Scheme, &'a [u8]), Reason> {
        credentials(request, self.dpop.is_some())
    }
}

impl<'a> Subject<'a> {
    /// What a client shows.
    fn of_client(shown: &'a Shown, identity: Option<Identity>) -> Subject<'a> {
        Subject {
            token: &shown.token,
            identity,
            holder: Holder::Client(shown.scheme),
            offered: shown.offered.as_ref(),
            request: &shown.request,
        }
    }

    /// Whether there is a proof of the right key, where there has to be one: all that can be told of it without its signature.
    fn check_proof(&self, held: &Held) -> Result<(), Stop> {
        match (held, self.offered) {
            (Held::Bound(_), _) => Ok(()),
            (Held::ToProve(key), Some(Ok(offered))) => Ok(offered.check_key(key)?),
            (Held::ToProve(_), _) => Err(Stop::NoProof),
        }
    }

    /// Why there is none.
    fn no_proof(&self) -> Refusal {
        match self.offered {
            Some(Err(refusal)) => refusal.clone(),
            _ => Reason::ProofMissing.into(),
        }
    }
}

/// The claims that a JWT holds itself.
fn claims_of(token: &[u8]) -> Result<Vec<u8>, Reason> {
    b64::decode(Compact::split(token)?.payload).ok_or(Reason::InternalError)
}

/// Scheme and rest of an `Authorization` header with a token.
#[inline(always)]
fn split_scheme(authorization: &[u8]) -> Option<(Scheme, &[u8])> {
    if let Some((name, rest)) = authorization.split_first_chunk::<6>()
        // As nearly all write it: one comparison of words.
        && (name == b"Bearer" || name.eq_ignore_ascii_case(b"Bearer"))
    {
        return Some((Scheme::Bearer, rest));
    }
    let (name, rest) = authorization.split_first_chunk::<4>()?;
    name.eq_ignore_ascii_case(b"DPoP").then_some((Scheme::Dpop, rest))
}

/// The token of the request, and how it was sent (RFC 6750 §2, RFC 9449 §7.1).
#[inline(always)]
fn credentials<'a>(request: &Request<'a>, takes_proofs: bool) -> Result<(Scheme, &'a [u8]), Reason> {
    if request.authorization_count > 1 {
        return Err(Reason::SeveralTokens);
    }
    let authorization = request.authorization.ok_or(Reason::NoToken)?;
    let (scheme, rest) = split_scheme(authorization).ok_or(Reason::NoToken)?;
    if scheme == Scheme::Dpop && !takes_proofs {
        return Err(Reason::NoToken);
    }
    let token = match rest {
        [b' ', ..] => trim_spaces(rest),
        // The name of another scheme goes on here.
        [c, ..] if c.is_ascii_alphanumeric() || *c == b'-' || *c == b'_' => return Err(Reason::NoToken),
        _ => return Err(Reason::MalformedAuthorization),
    };
    if token.is_empty() {
        return Err(Reason::MalformedAuthorization);
    }
    if !request.query.is_empty() && has_access_token(request.query) {
        return Err(Reason::SeveralTokens);
    }
    Ok((scheme, token))
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

/// `b64token` of RFC 6750 §2.1
fn is_token68(token: &[u8]) -> bool {
    let end = token.iter().rposition(|c| *c != b'=').map_or(0, |i| i.saturating_add(1));
    // Of all characters, since nearly all tokens are right: without a way out in between the compiler takes many at once.
    let is_text = token.iter().take(end).fold(true, |all, c| {
        let is_alphanumeric = c.is_ascii_digit() | c.is_ascii_uppercase() | c.is_ascii_lowercase();
        all & (is_alphanumeric
            | (*c == b'-')
            | (*c == b'.')
            | (*c == b'_')
            | (*c == b'~')
            | (*c == b'+')
            | (*c == b'/'))
    });
    end > 0 && is_text
}

/// Whether a query has the parameter `access_token` (RFC 6750 §2.3), whatever of its name is percent-encoded.
fn has_access_token(query: &[u8]) -> bool {
    query.split(|c| *c == b'&').any(|parameter| {
        let name = parameter.split(|c| *c == b'=').next().unwrap_or_default();
        let mut rest = name;
        for expected in b"access_token" {
            rest = match rest {
                [b'%', hex @ ..] => match hex.split_first_chunk::<2>() {
                    Some((digits, tail)) if unhex(*digits) == Some(*expected) => tail,
                    _ => return false,
                },
                [c, tail @ ..] if c == expected => tail,
                _ => return false,
            };
        }
        rest.is_empty()
    })
}

fn unhex(digits: [u8; 2]) -> Option<u8> {
    let text = std::str::from_utf8(&digits).ok()?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(authorization: Option<&str>, query: &str) -> Result<String, Reason> {
        let request = Request {
            now: 0,
            authorization: authorization.map(str::as_bytes),
            authorization_count: u32::from(authorization.is_some()),
            query: query.as_bytes(),
            certificate: ClientCertificate::Absent,
            early_data: false,
            http: None,
        };
        credentials(&request, false).map(|(_, token)| String::from_utf8_lossy(token).into_owned())
    }

    #[test]
    fn rfc6750_2_1_a_the_scheme_is_case_insensitive() {
        for header in ["Bearer a", "bearer a", "BEARER a", "bEaReR   a"] {
            assert_eq!(token(Some(header), ""), Ok("a".into()), "{header}");
        }
    }

    #[test]
    fn rfc6750_3_1_a_no_bearer_credentials_are_no_token() {
        assert_eq!(token(None, ""), Err(Reason::NoToken));
        for header in ["", "a", "Basic abc", "BearerX abc", "Bearer-x abc", "DPoP abc"] {
            assert_eq!(token(Some(header), ""), Err(Reason::NoToken), "{header}");
        }
    }

    #[test]
    fn credentials_of_another_scheme_leave_no_trace_in_a_log() {
        let id = |authorization: &str| {
            let request = Request {
                now: 0,
                authorization: Some(authorization.as_bytes()),
                authorization_count: 1,
                query: b"",
                certificate: ClientCertificate::Absent,
                early_data: false,
                http: None,
            };
            request.token_id()
        };
        // The first octets of `printf a.b.c | sha256sum`.
        for header in ["Bearer a.b.c", "bearer   a.b.c"] {
            assert_eq!(id(header), 0x845e_3044, "{header}");
        }
        for header in ["Basic a.b.c", "a.b.c", "Bearera.b.c", "Bearer", "Bearer ", ""] {
            assert_eq!(id(header), 0, "{header}");
        }
    }

    #[test]
    fn rfc6750_2_1_b_a_bearer_header_without_one_token_is_malformed() {
        for header in ["Bearer", "Bearer ", "Bearer   ", "Bearer\ta", "Bearer=a", "Bearer,a"] {
            assert_eq!(token(Some(header), ""), Err(Reason::MalformedAuthorization), "{header}");
        }
        for (text, ok) in [
            ("a", true),
            ("a-._~+/9==", true),
            ("=", false),
            ("a=b", false),
            ("a b", false),
            ("a,b", false),
            ("a ", false),
            ("\"a\"", false),
            ("ä", false),
        ] {
            assert_eq!(is_token68(text.as_bytes()), ok, "{text}");
        }
    }

    #[test]
    fn rfc6750_2_a_a_second_token_in_the_query_is_refused() {
        for query in [
            "access_token=x",
            "a=b&access_token=x",
            "access_token",
            "access%5ftoken=x",
            "%61ccess_token=",
            "a&access_token=x&b",
        ] {
            assert_eq!(token(Some("Bearer a"), query), Err(Reason::SeveralTokens), "{query}");
        }
        for query in [
            "",
            "access_tokens=x",
            "xaccess_token=x",
            "a=access_token",
            "Access_token=x",
            "access_toke",
            "access%5token=x",
            "%",
            "&&&",
        ] {
            assert_eq!(token(Some("Bearer a"), query), Ok("a".into()), "{query}");
        }
    }
}
