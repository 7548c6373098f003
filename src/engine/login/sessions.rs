//! Sessions: how they are found, kept fresh, written and ended.

use zeroize::Zeroizing;

use super::config::{Logins, Sessions};
use super::visit::Visit;
use super::{Holder, Passage, end_of};
use crate::binding::{self, Mode};
use crate::cert::Thumbprint;
use crate::client::authorization;
use crate::client::id_token::Expected;
use crate::client::shared::{self, Domain, Shared};
use crate::client::token_response::TokenError;
use crate::client::{Server, TokenSet};
use crate::crypto;
use crate::engine::{Engine, Tally};
use crate::reason::Reason;
use crate::session::cookie::{self, Jar};
use crate::session::keyring::{Keyring, Place, Purpose};
use crate::session::{Age, Method, Session, Tokens};
use crate::steps::{Host, Refusal, Stored};

/// How long the answer to a refresh is kept for requests that come with the cookie from before it, in seconds. Pages that were open
/// then are done with their requests.
pub(super) const AFTERGLOW: i64 = 120;
/// How long nobody tries again to refresh a token after the server failed, in seconds.
const REST: i64 = 5;
/// How often a request looks whether another worker has refreshed, in milliseconds, and how many times at most: each is a step.
const LOOK_MS: u32 = 200;
const MAX_LOOKS: u32 = 50;

/// What became of looking for a session.
pub(super) enum Found {
    /// The request goes on, and its client gets these cookies.
    Passage(Passage, Vec<String>),
    /// There is none.
    Nothing,
    /// There is one that is of no more use: another method may do.
    Over(Refusal),
}

/// What became of a refresh.
enum Refreshed {
    /// The tokens are new.
    Yes,
    /// It was not time, or could not be; the tokens are the old ones.
    No,
    /// The server said no: the session is over.
    Refused,
    /// Nobody could ask, and the access token is over.
    Unavailable(Refusal),
}

impl Sessions {
    fn place<'a>(&'a self, purpose: Purpose, host: &'a str) -> Place<'a> {
        Place { purpose, cookie: &self.cookie, host, audience: &self.audience }
    }

    /// The place of a login under way. Where its session will be bound to a certificate, the login is, too: who steals it half way gains
    /// nothing.
    pub(super) fn login_place<'a>(&self, cookie: &'a str, host: &'a str, audience: &'a str) -> Place<'a> {
        Place { purpose: Purpose::Login, cookie, host, audience }
    }

    pub(super) fn login_audience(&self, bound_to: Option<&Thumbprint>) -> String {
        let bound_to = bound_to.map(ToString::to_string).unwrap_or_default();
        format!("{bound_to} {}", self.audience)
    }

    /// The prefix of the names of cookies of logins under way.
    pub(super) fn login_prefix(&self) -> String {
        format!("{}_login_", self.cookie)
    }

    /// The name of the cookie of the login with this `state`.
    pub(super) fn login_cookie(&self, state: &str) -> String {
        [&self.login_prefix(), authorization::cookie_suffix(state)].concat()
    }

    /// Whether a cookie is one of ours, which the upstream does not get.
    pub(super) fn is_own_cookie(&self, name: &str) -> bool {
        cookie::is_part_of(name, &self.cookie) || name.starts_with(&self.login_prefix())
    }

    /// Under which key the store has a session.
    fn key(&self, host: &str, id: &[u8; 32]) -> [u8; 32] {
        shared::hash(Domain::Session, &[&Keyring::name(&self.place(Purpose::Stored, host), id)])
    }
}

impl Engine {
    fn first_server(&self) -> Result<&Server, Refusal> {
        self.servers.first().ok_or_else(|| Reason::InternalError.into())
    }

    fn store(&self) -> Result<&Shared, Refusal> {
        Ok(&self.first_server()?.shared)
    }

    /// The session of a request's cookie, whoever sent it; and whether it is to be written anew.
    pub(super) async fn open_session(
        &self,
        host: &Host,
        sessions: &Sessions,
        visit: &Visit,
    ) -> Result<Option<(Session, bool)>, Refusal> {
        let value = match Jar(&visit.cookie).read(&sessions.cookie) {
            Ok(None) => return Ok(None),
            Ok(Some(value)) => value,
            Err(_) => return Err(Reason::SessionInvalid.into()),
        };
        let (sealed, purpose, id) = if sessions.in_store {
            let id: [u8; 32] = value.try_into().map_err(|_| Reason::SessionInvalid)?;
            match self.store()?.fetch(host, sessions.key(&visit.host, &id)).await {
                Stored::Found(sealed) => (sealed, Purpose::Stored, Some(id)),
                Stored::Absent => return Err(Reason::SessionExpired.into()),
                _ => return Err(Reason::StoreUnavailable.into()),
            }
        } else {
            (value, Purpose::Session, None)
        };
        let place = sessions.place(purpose, &visit.host);
        let opened = sessions.keyring.open(&place, &sealed).ok_or(Reason::SessionInvalid)?;
        let session = Session::parse(&opened.plaintext).ok_or(Reason::SessionInvalid)?;
        // What is sealed says under which id: an entry cannot be put under another's.
        if id.is_some_and(|id| id != session.id) {
            return Err(Reason::SessionInvalid.into());
        }
        Ok(Some((session, !opened.current)))
    }

    /// Lets a request through by its session.
    pub(super) async fn by_session(
        &self,
        host: &Host,
        logins: &Logins,
        sessions: &Sessions,
        visit: &Visit,
        tally: &mut Tally,
    ) -> Result<Found, Refusal> {
        let (mut session, mut is_old) = match self.open_session(host, sessions, visit).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Found::Nothing),
            Err(refusal) if refusal.reason == Reason::StoreUnavailable => return Err(refusal),
            Err(refusal) => return Ok(Found::Over(refusal)),
        };
        if !self.begins(logins, session.method) {
            let detail = format!("it was begun by {}, which is not in auth_methods", session.method.name());
            return Ok(Found::Over(Refusal::new(Reason::SessionInvalid, detail)));
        }
        let age = session.age(host.now(), &sessions.timeouts);
        if matches!(age, Age::Over) {
            self.end_session(host, sessions, visit, &session).await?;
            return Ok(Found::Over(Reason::SessionExpired.into()));
        }
        // Before anything is done for who sent it: a thief must neither refresh nor end it.
        let identity = visit.identity?;
        let _bound = binding::check_session(session.thumbprint.as_ref(), identity.as_ref())?;
        if logins.bind && session.thumbprint.is_none() && self.rules.mode != Mode::Optional {
            return Ok(Found::Over(Refusal::new(Reason::SessionInvalid, "it began before session_bind_certificate")));
        }
        let mut left = None;
        let scope = session.tokens.scope.clone();
        match self.refresh(host, logins, sessions, &mut session).await {
            Refreshed::Yes => {
                is_old = true;
                // Who may do something else now is another session.
                if session.tokens.scope != scope {
                    left = Some(sessions.key(&visit.host, &session.id));
                    session.id = crypto::random().ok_or(Reason::InternalError)?;
                }
            }
            Refreshed::No => {}
            Refreshed::Refused => {
                self.end_session(host, sessions, visit, &session).await?;
                return Ok(Found::Over(Reason::SessionRefused.into()));
            }
            Refreshed::Unavailable(refusal) => return Err(refusal),
        }
        let holder = match session.method {
            Method::Bearer | Method::Introspection => Holder::Client,
            _ => Holder::Gateway(session.thumbprint),
        };
        let token = session.tokens.access_token.as_bytes();
        if session.tokens.expires.is_some_and(|end| host.now() >= end) {
            return Ok(Found::Over(Reason::SessionExpired.into()));
        }
        let judged = match self.judge_token(host, token, visit, holder, tally).await {
            Ok(judged) => judged,
            Err(refusal) if ends_session(refusal.reason) => {
                let reason =
                    if refusal.reason == Reason::TokenExpired { Reason::SessionExpired } else { refusal.reason };
                return Ok(Found::Over(Refusal { reason, ..refusal }));
            }
            Err(refusal) => return Err(refusal),
        };
        let cookies = if is_old || matches!(age, Age::Touch) {
            session.touch(host.now(), &sessions.timeouts);
            let cookies = self.write_session(host, sessions, visit, &session).await?;
            if let Some(key) = left.filter(|_| sessions.in_store) {
                self.store()?.delete(host, key).await;
            }
            cookies
        } else {
            Vec::new()
        };
        let is_proved = session.thumbprint.is_some() || matches!(holder, Holder::Client);
        let passage = Passage {
            method: Method::Session,
            judged,
            tokens: Some(session.tokens),
            subject: None,
            refresh_token: None,
            is_proved,
        };
        Ok(Found::Passage(passage, cookies))
    }

    /// Whether sessions of a method are taken here.
    fn begins(&self, logins: &Logins, method: Method) -> bool {
        match method {
            Method::Session => false,
            Method::Bearer => self.bearer,
            Method::Introspection => self.introspection,
            Method::RefreshToken => logins.refresh_token,
            Method::Password => logins.password.is_some(),
            Method::ClientCredentials => logins.client_credentials.is_some(),
            Method::AuthorizationCode => logins.code.is_some(),
        }
    }

    /// The certificate that a new session is bound to.
    ///
    /// # Errors
    /// There is none, and without one nobody logs in.
    pub(super) fn bind(&self, logins: &Logins, visit: &Visit) -> Result<Option<Thumbprint>, Reason> {
        let identity = visit.identity?;
        match identity {
            _ if !logins.bind => Ok(None),
            Some(identity) => Ok(Some(identity.thumbprint)),
            None if self.rules.mode == Mode::Optional => Ok(None),
            None => Err(Reason::SessionCertificateMissing),
        }
    }

    /// Begins a session for a request that is let through by another method, if that method begins one: the cookies.
    pub(super) async fn begin_session(
        &self,
        host: &Host,
        logins: &Logins,
        sessions: &Sessions,
        visit: &Visit,
        passage: &Passage,
    ) -> Result<Vec<String>, Refusal> {
        let Some(tokens) = passage.tokens.as_ref().filter(|_| !sessions.disabled.contains(&passage.method)) else {
            return Ok(Vec::new());
        };
        let now = host.now();
        let session = Session {
            // Never one that came with the request.
            id: crypto::random().ok_or(Reason::InternalError)?,
            method: passage.method,
            tokens: tokens.clone(),
            subject: passage.subject.clone(),
            thumbprint: self.bind(logins, visit)?,
            created: now,
            renewed: now,
            used: now,
        };
        self.write_session(host, sessions, visit, &session).await
    }

    /// Writes a session: the cookies.
    async fn write_session(
        &self,
        host: &Host,
        sessions: &Sessions,
        visit: &Visit,
        session: &Session,
    ) -> Result<Vec<String>, Refusal> {
        let purpose = if sessions.in_store { Purpose::Stored } else { Purpose::Session };
        let text = session.to_json();
        let sealed =
            sessions.keyring.seal(&sessions.place(purpose, &visit.host), &text).ok_or(Reason::InternalError)?;
        let jar = Jar(&visit.cookie);
        let value = if sessions.in_store {
            let ttl = session.ttl(host.now(), &sessions.timeouts);
            if !self.store()?.keep(host, sessions.key(&visit.host, &session.id), sealed, ttl).await {
                return Err(Reason::StoreUnavailable.into());
            }
            session.id.to_vec()
        } else {
            sealed
        };
        cookie::write(&jar, &sessions.cookie, &value, sessions.same_site, None).ok_or_else(|| {
            Refusal::new(Reason::InternalError, "the tokens are too large for cookies: set session_storage to store")
        })
    }

    /// Ends what the store has of a session.
    pub(super) async fn end_session(
        &self,
        host: &Host,
        sessions: &Sessions,
        visit: &Visit,
        session: &Session,
    ) -> Result<(), Refusal> {
        if sessions.in_store {
            self.store()?.delete(host, sessions.key(&visit.host, &session.id)).await;
        }
        Ok(())
    }

    /// Refreshes the access token of a session when it is time: one request for all workers (RFC 6749 §6).
    async fn refresh(&self, host: &Host, logins: &Logins, sessions: &Sessions, session: &mut Session) -> Refreshed {
        let now = host.now();
        let (Some(margin), Some(old)) = (sessions.refresh, session.tokens.refresh_token.clone()) else {
            return Refreshed::No;
        };
        if !is_due(&session.tokens, margin, now) {
            return Refreshed::No;
        }
        let end = session.tokens.expires;
        let lives = |now: i64| end.is_none_or(|end| now < end);
        let server = match self.first_server() {
            Ok(server) => server,
            Err(refusal) => return Refreshed::Unavailable(refusal),
        };
        let of = [server.trust.as_slice(), old.as_bytes()];
        let (key, lock) = (shared::hash(Domain::Refresh, &of), shared::hash(Domain::RefreshLock, &of));
        let timeout = i64::from(server.timeouts.total.div_euclid(1000));
        let looks = server.timeouts.total.div_euclid(LOOK_MS).saturating_add(1).min(MAX_LOOKS);
        for look in 0..=looks {
            let delay = if look == 0 { 0 } else { LOOK_MS };
            if let Some((_, news)) = server.shared.read_of_after(host, old.as_bytes(), key, delay).await {
                return session.adopt(&news);
            }
            match server.shared.lock(host, lock, b"refresh", timeout.saturating_add(REST)).await {
                Some(true) => {
                    // Who had the lock may have been done with it between the two questions, and the old token is used up then.
                    if let Some((_, news)) = server.shared.read_of(host, old.as_bytes(), key).await {
                        server.shared.delete(host, lock).await;
                        return session.adopt(&news);
                    }
                    break;
                }
                // Somebody is at it, or the server failed a moment ago.
                Some(false) if lives(host.now()) => return Refreshed::No,
                Some(false) if look < looks => {}
                Some(false) => {
                    return Refreshed::Unavailable(Refusal::new(
                        Reason::ServerUnavailable,
                        "the session's token is over, and could not be refreshed a moment ago",
                    ));
                }
                None if lives(host.now()) => return Refreshed::No,
                None => return Refreshed::Unavailable(Reason::StoreUnavailable.into()),
            }
        }
        let form = vec![
            ("grant_type".to_owned(), "refresh_token".to_owned()),
            ("refresh_token".to_owned(), String::clone(&old)),
        ];
        match self.renew(host, logins, server, form, key, session).await {
            Ok(tokens) => {
                session.tokens = tokens;
                let told = session.to_json();
                server.shared.write_of(host, old.as_bytes(), key, host.now(), &told, AFTERGLOW).await;
                server.shared.delete(host, lock).await;
                Refreshed::Yes
            }
            Err(TokenError::Refused(_)) => {
                server.shared.write_of(host, old.as_bytes(), key, host.now(), b"refused", AFTERGLOW).await;
                server.shared.delete(host, lock).await;
                Refreshed::Refused
            }
            Err(TokenError::Unavailable(detail) | TokenError::Client(detail)) => {
                // The lock stays for a while: others do not ask in vain.
                server.shared.write_lock(host, lock, b"failed", REST).await;
                if lives(host.now()) {
                    return Refreshed::No;
                }
                Refreshed::Unavailable(Refusal::new(Reason::ServerUnavailable, detail))
            }
        }
    }

    /// One refresh request. What the answer leaves out stays as it was (RFC 6749 §6, OpenID Connect Core 1.0 §12.2).
    async fn renew(
        &self,
        host: &Host,
        logins: &Logins,
        server: &Server,
        form: Vec<(String, String)>,
        flight: [u8; 32],
        session: &Session,
    ) -> Result<Tokens, TokenError> {
        let TokenSet { mut tokens, id_token } = server.token(host, form, &logins.token_arguments, None, flight).await?;
        if let Some(token) = &id_token {
            let expected = Expected {
                issuer: &server.issuer,
                client_id: server.client_id().unwrap_or_default(),
                nonce: None,
                access_token: &tokens.access_token,
                subject: session.subject.as_deref(),
                trusted_audiences: &logins.audiences,
                algorithms: &self.rules.policy.algorithms,
                leeway: self.rules.leeway,
            };
            let checked = server.check_id_token(host, token.as_bytes(), &expected).await;
            checked.map_err(|refusal| {
                TokenError::Unavailable(format!("the ID token: {}", refusal.detail.unwrap_or_default()))
            })?;
        }
        let keep = |new: Option<Zeroizing<String>>, old: &Option<Zeroizing<String>>| new.or_else(|| old.clone());
        tokens.refresh_token = keep(tokens.refresh_token.take(), &session.tokens.refresh_token);
        tokens.id_token = keep(id_token, &session.tokens.id_token);
        if tokens.expires.is_none() {
            tokens.expires = crate::token::dangerous_unverified_claims(tokens.access_token.as_bytes())
                .and_then(|claims| end_of(&claims));
        }
        Ok(tokens)
    }
}

impl Session {
    /// Takes over what another request got for the same refresh token.
    fn adopt(&mut self, news: &[u8]) -> Refreshed {
        match Session::parse(news) {
            Some(news) => {
                self.tokens = news.tokens;
                Refreshed::Yes
            }
            // So the server's no is told.
            None => Refreshed::Refused,
        }
    }
}

/// Whether a token is to be refreshed: so long before its end, and of one that lives shortly, in the last third of its life.
fn is_due(tokens: &Tokens, margin: i64, now: i64) -> bool {
    tokens.expires.is_some_and(|end| {
        let life = end.saturating_sub(tokens.obtained).max(0);
        end.saturating_sub(now) <= margin.min(life.div_euclid(3))
    })
}

/// Whether a token that is refused for this ends its session, so that the user may log in again. What no new login would change does not:
/// the browser would be sent to and fro.
fn ends_session(reason: Reason) -> bool {
    use crate::reason::Answer;
    matches!(reason.answer(), Answer::InvalidToken | Answer::Challenge) && !reason.is_binding()
}
