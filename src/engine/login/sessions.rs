//! Sessions: how they are found, kept fresh, written and ended.

use super::config::{Logins, Sessions};
use super::visit::Visit;
use super::{Holder, Passage};
use crate::binding::{self, Confirmation, Mode, Scheme};
use crate::cert::Thumbprint;
use crate::client::authorization;
use crate::client::shared::{self, Domain, Keep, Shared};
use crate::client::token_response::TokenError;
use crate::client::{Server, TokenSet};
use crate::crypto;
use crate::engine::{Engine, Tally};
use crate::jose::json;
use crate::reason::Reason;
use crate::session::cookie::{self, Jar};
use crate::session::keyring::{Keyring, Place, Purpose};
use crate::session::{Age, Method, Session, Tokens};
use crate::steps::{Host, Refusal, Stored};

/// How long the answer to a refresh is kept at least, in seconds, for requests that come with what was good before it.
pub(super) const AFTERGLOW: i64 = 120;
/// How long nobody tries again to refresh a token after the server failed, in seconds.
const REST: i64 = 5;
/// Requests to the server that one refresh may take: metadata at two places, the token, keys.
const EXCHANGES: i64 = 5;
/// How often a request looks whether another worker has refreshed, in milliseconds, and how many times at most: each is a step.
const LOOK_MS: u32 = 200;
const MAX_LOOKS: u32 = 50;
/// What the store says of a refresh that the server refused, and of one that failed a moment ago.
const REFUSED: &[u8] = b"refused";
const FAILED: &[u8] = b"failed";

/// What became of looking for a session.
pub(super) enum Found {
    /// The request goes on.
    Passage(Box<Passage>),
    /// There is none.
    Nothing,
    /// There is one that is of no more use: another method may do. Its cookie is removed where it is `ours` for certain: one that does not
    /// open may be another's of the same name.
    Over { refusal: Refusal, ours: bool },
}

impl Found {
    fn over(refusal: impl Into<Refusal>) -> Found {
        Found::Over { refusal: refusal.into(), ours: true }
    }

    fn unknown(refusal: impl Into<Refusal>) -> Found {
        Found::Over { refusal: refusal.into(), ours: false }
    }
}

/// What became of a refresh.
enum Refreshed {
    /// The tokens are new.
    Yes,
    /// It is not time.
    No,
    /// It is time, and the tokens are the old ones still: somebody else is at it, or the server failed. What would be written now could
    /// displace what that one writes.
    Pending,
    /// Another request made it a session of another id, which is to be refreshed as that.
    Again,
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

    fn seal(&self, purpose: Purpose, visit: &Visit, session: &Session) -> Result<Vec<u8>, Reason> {
        self.keyring.seal(&self.place(purpose, &visit.host), &session.to_json()).ok_or(Reason::InternalError)
    }

    /// Under which key the store has a session.
    fn key(&self, host: &str, id: &[u8; 32]) -> [u8; 32] {
        shared::hash(Domain::Session, &[&Keyring::name(&self.place(Purpose::Stored, host), id)])
    }

    /// Under which key the store knows that a session has ended, wherever it is kept.
    fn end_key(&self, host: &str, id: &[u8; 32]) -> [u8; 32] {
        shared::hash(Domain::SessionEnd, &[&Keyring::name(&self.place(Purpose::Stored, host), id)])
    }
}

impl Engine {
    fn store(&self) -> Result<&Shared, Reason> {
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
            match self.store()?.fetch(host, sessions.key(&visit.host, &id), 0).await {
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

    /// Lets a request through by its session. What the client is to be given, whatever comes of the request, goes into `cookies`.
    pub(super) async fn by_session(
        &self,
        host: &Host,
        logins: &Logins,
        sessions: &Sessions,
        visit: &Visit,
        cookies: &mut Vec<String>,
        tally: &mut Tally,
    ) -> Result<Found, Refusal> {
        // A login would not mend it, and the browser would be sent to and fro.
        if Jar(&visit.cookie).is_doubled(&sessions.cookie) {
            return Err(Refusal::new(
                Reason::SessionInvalid,
                "its cookie came twice: another host of the domain may have set one",
            ));
        }
        let (mut session, is_old) = match self.open_session(host, sessions, visit).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Found::Nothing),
            Err(refusal) if refusal.reason == Reason::StoreUnavailable => return Err(refusal),
            Err(refusal) => return Ok(Found::unknown(refusal)),
        };
        if !self.begins(logins, session.method) {
            let detail = format!("it was begun by {}, which is not in auth_methods", session.method.name());
            return Ok(Found::unknown(Refusal::new(Reason::SessionInvalid, detail)));
        }
        let age = session.age(host.now(), &sessions.timeouts);
        match age {
            Age::Over => return Ok(Found::over(Reason::SessionExpired)),
            // For another node it may be good.
            Age::Early => {
                let detail = "it was used later than the clock here says";
                return Ok(Found::unknown(Refusal::new(Reason::SessionInvalid, detail)));
            }
            Age::Fresh | Age::Touch => {}
        }
        // Before anything is done for who sent it: a thief must neither refresh nor end it.
        self.check_bound(sessions, visit, &session, cookies)?;
        if logins.bind && session.thumbprint.is_none() && !self.rules.possession.admits_unproved() {
            let detail = "it began before session_bind_certificate";
            return Ok(Found::over(Refusal::new(Reason::SessionInvalid, detail)));
        }
        let is_to_be_written = is_old || age == Age::Touch;
        let over = self.freshen(host, logins, sessions, visit, &mut session, is_to_be_written, cookies).await?;
        if let Some(reason) = over {
            return Ok(Found::over(reason));
        }
        if session.tokens.expires.is_some_and(|end| host.now() >= end.saturating_add(self.rules.leeway)) {
            return Ok(Found::over(Reason::SessionExpired));
        }
        let holder = match session.method {
            Method::Bearer | Method::Introspection => Holder::Client(Scheme::Bearer),
            _ => Holder::Gateway(session.thumbprint),
        };
        let token = session.tokens.access_token.as_bytes();
        let passed = match self.judge_token(host, token, visit, holder, tally).await {
            Ok(passed) => passed,
            Err(refusal) if ends_session(refusal.reason) => {
                let reason =
                    if refusal.reason == Reason::TokenExpired { Reason::SessionExpired } else { refusal.reason };
                return Ok(Found::over(Refusal { reason, ..refusal }));
            }
            Err(refusal) => return Err(refusal),
        };
        let is_proved = session.thumbprint.is_some() || matches!(holder, Holder::Client(_));
        Ok(Found::Passage(Box::new(Passage {
            method: Method::Session,
            passed,
            tokens: session.tokens,
            subject: None,
            refresh_token: None,
            is_proved,
        })))
    }

    /// Checks what a session is bound to. Who comes with another certificate loses the cookie, and nobody else does: after a renewal of the
    /// certificate the user can log in again.
    pub(super) fn check_bound(
        &self,
        sessions: &Sessions,
        visit: &Visit,
        session: &Session,
        cookies: &mut Vec<String>,
    ) -> Result<(), Reason> {
        let identity = visit.identity?;
        let checked = binding::check_session(session.thumbprint.as_ref(), identity.as_ref()).map(drop);
        if checked == Err(Reason::SessionCertificateMismatch) {
            cookies.extend(cookie::clear(&Jar(&visit.cookie), &sessions.cookie, sessions.same_site));
        }
        checked
    }

    /// Refreshes and writes a session where it is time for that; why it is over, if it is.
    #[expect(clippy::too_many_arguments, reason = "each is another thing that a session is about")]
    async fn freshen(
        &self,
        host: &Host,
        logins: &Logins,
        sessions: &Sessions,
        visit: &Visit,
        session: &mut Session,
        is_to_be_written: bool,
        cookies: &mut Vec<String>,
    ) -> Result<Option<Reason>, Refusal> {
        let is_due = sessions.refresh.is_some_and(|margin| is_due(&session.tokens, margin, host.now()));
        if !is_to_be_written && !is_due {
            return Ok(None);
        }
        // Copies of a cookie live on after a logout, until they would be written anew. Without the store none is.
        match self.is_ended(host, sessions, visit, session).await {
            Some(true) => return Ok(Some(Reason::SessionExpired)),
            Some(false) => {}
            None if !is_due => return Ok(None),
            None => {}
        }
        let before = session.clone();
        let mut refreshed = self.refresh(host, logins, sessions, session).await;
        if let Refreshed::Again = refreshed {
            refreshed = self.refresh(host, logins, sessions, session).await;
        }
        match refreshed {
            Refreshed::Yes => {}
            Refreshed::No if is_to_be_written => {}
            Refreshed::No | Refreshed::Pending | Refreshed::Again => return Ok(None),
            Refreshed::Refused => {
                self.end_session(host, sessions, visit, session).await;
                return Ok(Some(Reason::SessionRefused));
            }
            Refreshed::Unavailable(refusal) => return Err(refusal),
        }
        // At once: whatever becomes of this request, the old refresh token is used up.
        session.touch(host.now(), &sessions.timeouts);
        cookies.extend(self.write_session(host, sessions, visit, session).await?);
        let is_another = session.id != before.id;
        if is_another && sessions.in_store {
            // Requests that are under way still come with the id of before.
            let ttl = u32::try_from(AFTERGLOW).unwrap_or_default();
            self.store_session(host, sessions, visit, &before, ttl).await?;
        }
        if !is_another && !sessions.in_store {
            return Ok(None);
        }
        // A logout between the two would be undone by what was written.
        let is_over = self.is_ended(host, sessions, visit, session).await == Some(true);
        if is_over && sessions.in_store {
            self.store()?.delete(host, sessions.key(&visit.host, &session.id)).await;
        }
        Ok(is_over.then_some(Reason::SessionExpired))
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
            None if self.rules.possession.admits_unproved() => Ok(None),
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
        let is_off = match passage.method {
            // The client holds that token itself, and one of the two would spend it behind the other's back.
            Method::RefreshToken => true,
            Method::AuthorizationCode => false,
            // A cookie proves no key.
            _ if visit.scheme == Scheme::Dpop => true,
            // Another site must not log its visitors in as somebody else.
            method => sessions.disabled.contains(&method) || visit.is_cross_site(),
        };
        if is_off {
            return Ok(Vec::new());
        }
        let now = host.now();
        // What the token is bound to binds the session in all that it does, a logout too.
        let thumbprint = match self.bind(logins, visit)? {
            None if self.rules.possession.mtls != Mode::Off && passage.is_proved => bound_to(&passage.passed.claims),
            thumbprint => thumbprint,
        };
        let session = Session {
            // Never one that came with the request.
            id: crypto::random().ok_or(Reason::InternalError)?,
            method: passage.method,
            tokens: passage.tokens.clone(),
            subject: passage.subject.clone(),
            thumbprint,
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
        let jar = Jar(&visit.cookie);
        let value = if sessions.in_store {
            let ttl = session.ttl(host.now(), &sessions.timeouts);
            self.store_session(host, sessions, visit, session, ttl).await?;
            session.id.to_vec()
        } else {
            sessions.seal(Purpose::Session, visit, session)?
        };
        cookie::write(&jar, &sessions.cookie, &value, sessions.same_site, None).ok_or_else(|| {
            Refusal::new(Reason::InternalError, "the tokens are too large for cookies: set session_storage to store")
        })
    }

    /// Puts a session into the store, under its id.
    async fn store_session(
        &self,
        host: &Host,
        sessions: &Sessions,
        visit: &Visit,
        session: &Session,
        ttl: u32,
    ) -> Result<(), Refusal> {
        let sealed = sessions.seal(Purpose::Stored, visit, session)?;
        let is_kept = self.store()?.keep(host, sessions.key(&visit.host, &session.id), sealed, ttl).await;
        if is_kept { Ok(()) } else { Err(Reason::StoreUnavailable.into()) }
    }

    /// Ends a session for all who have its cookie; false if the store failed.
    pub(super) async fn end_session(&self, host: &Host, sessions: &Sessions, visit: &Visit, session: &Session) -> bool {
        let Ok(store) = self.store() else { return false };
        let ttl = session.ttl_of_copies(host.now(), &sessions.timeouts);
        // First: who writes the session meanwhile looks for this behind it.
        let is_told = store.keep(host, sessions.end_key(&visit.host, &session.id), b"over".to_vec(), ttl).await;
        let is_gone = !sessions.in_store || store.delete(host, sessions.key(&visit.host, &session.id)).await;
        is_told && is_gone
    }

    /// Whether a session was ended; `None` if the store failed.
    async fn is_ended(&self, host: &Host, sessions: &Sessions, visit: &Visit, session: &Session) -> Option<bool> {
        match self.store().ok()?.fetch(host, sessions.end_key(&visit.host, &session.id), 0).await {
            Stored::Found(_) => Some(true),
            Stored::Absent => Some(false),
            _ => None,
        }
    }

    /// Refreshes the access token of a session when it is time: one request for all workers (RFC 6749 §6).
    ///
    /// What it gives is kept in the store under the session's id for as long as a request may come with what was good before: a cookie that
    /// crossed the answer must not send the old refresh token again, by which the server would take it for stolen.
    async fn refresh(&self, host: &Host, logins: &Logins, sessions: &Sessions, session: &mut Session) -> Refreshed {
        let Some(margin) = sessions.refresh else {
            return Refreshed::No;
        };
        if session.tokens.refresh_token.is_none() || !is_due(&session.tokens, margin, host.now()) {
            return Refreshed::No;
        }
        let server = match self.first_server() {
            Ok(server) => server,
            Err(reason) => return Refreshed::Unavailable(reason.into()),
        };
        let (shared, id) = (&server.shared, session.id);
        let of = [server.trust.as_slice(), &id];
        let (key, lock) = (shared::hash(Domain::Refresh, &of), shared::hash(Domain::RefreshLock, &of));
        let end = session.tokens.expires;
        let lives = |now: i64| end.is_none_or(|end| now < end);
        let total = i64::from(server.timeouts.total.div_ceil(1000)).saturating_mul(EXCHANGES);
        let looks = server.timeouts.total.div_euclid(LOOK_MS).saturating_add(1).min(MAX_LOOKS);
        let mut look = 0;
        loop {
            let delay = if look == 0 { 0 } else { LOOK_MS };
            if let Some((_, news)) = shared.read_of_after(host, &id, key, delay).await
                && let Some(refreshed) = session.adopt(&news, margin, host.now())
            {
                return refreshed;
            }
            match shared.lock(host, lock, b"refresh", total.saturating_add(REST)).await {
                Some(true) => break,
                Some(false) if lives(host.now()) => return Refreshed::Pending,
                Some(false) => {
                    if look >= looks || shared.locked(host, lock).await.as_deref() == Some(FAILED) {
                        let why = "the session's token is over, and could not be refreshed a moment ago";
                        return Refreshed::Unavailable(Refusal::new(Reason::ServerUnavailable, why));
                    }
                }
                None if lives(host.now()) => return Refreshed::Pending,
                None => return Refreshed::Unavailable(Reason::StoreUnavailable.into()),
            }
            look = look.saturating_add(1);
        }
        // Who had the lock may have been done with it between the two questions.
        if let Some((_, news)) = shared.read_of(host, &id, key).await
            && let Some(refreshed) = session.adopt(&news, margin, host.now())
        {
            shared.delete(host, lock).await;
            return refreshed;
        }
        let refreshed = match self.renew(host, logins, server, session).await {
            Ok(tokens) => {
                // Who may do something else now is another session: for all who come with the one before the same one.
                if !is_same_scope(session.tokens.scope.as_deref(), tokens.scope.as_deref()) {
                    session.id = match crypto::random() {
                        Some(id) => id,
                        None => return Refreshed::Unavailable(Reason::InternalError.into()),
                    };
                }
                session.tokens = tokens;
                let ttl = i64::from(session.ttl(host.now(), &sessions.timeouts)).max(AFTERGLOW);
                if !shared.write_of(host, &id, key, host.now(), &session.to_json(), (ttl, Keep::Always)).await {
                    // Nobody else knows of it: as long as the lock lives nobody sends what is used up.
                    return Refreshed::Yes;
                }
                Refreshed::Yes
            }
            Err(TokenError::Refused(_)) => {
                shared.write_of(host, &id, key, host.now(), REFUSED, (AFTERGLOW, Keep::Always)).await;
                Refreshed::Refused
            }
            Err(TokenError::Unavailable(detail) | TokenError::Client(detail)) => {
                // The lock stays for a while: others do not ask in vain.
                shared.write_lock(host, lock, FAILED, REST).await;
                return if lives(host.now()) {
                    Refreshed::Pending
                } else {
                    Refreshed::Unavailable(Refusal::new(Reason::ServerUnavailable, detail))
                };
            }
        };
        shared.delete(host, lock).await;
        refreshed
    }

    /// One refresh request. What the answer leaves out stays as it was (RFC 6749 §5.1, §6, OpenID Connect Core 1.0 §12.2).
    async fn renew(
        &self,
        host: &Host,
        logins: &Logins,
        server: &Server,
        session: &Session,
    ) -> Result<Tokens, TokenError> {
        let old = &session.tokens;
        let token = old.refresh_token.clone().unwrap_or_default();
        let flight = shared::hash(Domain::Refresh, &[&server.trust, &session.id, token.as_bytes()]);
        let form = vec![
            ("grant_type".to_owned(), "refresh_token".to_owned()),
            ("refresh_token".to_owned(), String::clone(&token)),
        ];
        let TokenSet { mut tokens, id_token, .. } =
            server.token(host, form, &logins.token_arguments, None, flight).await?;
        let id_token = match id_token {
            Some(id_token) => {
                let expected = self.expected(logins, server, &tokens.access_token, None, session.subject.as_deref());
                match server.check_id_token(host, id_token.as_bytes(), &expected).await {
                    Ok(_) => Some(id_token),
                    Err(refusal) if refusal.reason == Reason::IdTokenInvalid => {
                        return Err(TokenError::Refused(refusal.detail.map(String::from)));
                    }
                    // The tokens are good, and the refresh token that they came for is used up. It is only for logging out.
                    Err(_) => None,
                }
            }
            None => None,
        };
        tokens.refresh_token = tokens.refresh_token.or_else(|| old.refresh_token.clone());
        tokens.id_token = id_token.or_else(|| old.id_token.clone());
        tokens.scope = tokens.scope.or_else(|| old.scope.clone());
        // As long as the one before.
        let life = old.expires.map(|end| end.saturating_sub(old.obtained));
        tokens.expires = tokens.expires.or_else(|| life.map(|life| tokens.obtained.saturating_add(life)));
        Ok(tokens)
    }
}

impl Session {
    /// Takes over what another request got; `None` where that is nothing new, or is due itself by now.
    fn adopt(&mut self, news: &[u8], margin: i64, now: i64) -> Option<Refreshed> {
        if news == REFUSED {
            return Some(Refreshed::Refused);
        }
        let Session { id, tokens, .. } = Session::parse(news)?;
        if tokens.obtained < self.tokens.obtained || tokens.are_those_of(&self.tokens) {
            return None;
        }
        let is_another = id != self.id;
        (self.id, self.tokens) = (id, tokens);
        match (is_due(&self.tokens, margin, now), is_another) {
            (false, _) => Some(Refreshed::Yes),
            (true, true) => Some(Refreshed::Again),
            (true, false) => None,
        }
    }
}

impl Tokens {
    fn are_those_of(&self, other: &Tokens) -> bool {
        self.access_token == other.access_token
            && self.refresh_token == other.refresh_token
            && self.expires == other.expires
    }
}

/// Whether two scopes are the same set. One that the server left out is what it was (RFC 6749 §5.1).
fn is_same_scope(before: Option<&str>, now: Option<&str>) -> bool {
    let (Some(before), Some(now)) = (before, now) else {
        return true;
    };
    let has = |all: &str, one: &str| all.split(' ').any(|other| other == one);
    before.split(' ').all(|one| has(now, one)) && now.split(' ').all(|one| has(before, one))
}

/// The certificate that the token of these claims is bound to.
fn bound_to(claims: &[u8]) -> Option<Thumbprint> {
    Confirmation::of_claims(&json::parse_object(claims).ok()?).certificate().copied()
}

/// Whether a token is to be refreshed: so long before its end, and of one that lives shortly, in the last third of its life.
fn is_due(tokens: &Tokens, margin: i64, now: i64) -> bool {
    tokens.expires.is_some_and(|end| {
        let life = end.saturating_sub(tokens.obtained).max(0);
        end.saturating_sub(now) <= margin.min(life.div_euclid(3))
    })
}

/// Whether a token that is refused for this is good no more, so that its session ends and the user may log in again. What no new login would
/// change ends nothing: the browser would be sent to and fro, and for another instance the session may be good.
pub(super) fn ends_session(reason: Reason) -> bool {
    matches!(reason, Reason::TokenExpired | Reason::TokenInactive | Reason::KeyUnknown | Reason::SignatureInvalid)
}
