//! Requests whose token does not come in their `Authorization` header: sessions, logins of browsers, grants; and the gateway's own token
//! for the upstream. The methods are tried in Kong's order, and the first for which something came decides.

mod answers;
mod code;
pub(crate) mod config;
mod grants;
mod logout;
mod sessions;
mod visit;

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Check, Engine, Granted, Passed, Request, Shown, Subject, Tally, is_token68, proof};
use crate::binding::Scheme;
use crate::client::Server;
use crate::client::id_token::Expected;
use crate::jose::claims;
use crate::jose::json;
use crate::reason::Reason;
use crate::session::cookie::{self, Jar};
use crate::session::{Method, Tokens};
use crate::steps::{Host, Refusal, Run};
use config::Logins;
use sessions::Found;
use visit::Visit;

/// Who holds the key that a token is bound to.
#[derive(Clone, Copy)]
pub(crate) enum Holder {
    /// Who sent it, and how.
    Client(Scheme),
    /// The gateway, for which it was issued; its session may be bound to a certificate of the client.
    Gateway(Option<crate::cert::Thumbprint>),
}

/// A request that is let through by one of the methods.
struct Passage {
    method: Method,
    passed: Passed,
    /// What the gateway holds for the client.
    tokens: Tokens,
    subject: Option<String>,
    /// A refresh token that replaces the client's.
    refresh_token: Option<Zeroizing<String>>,
    /// Whether possession of a key was checked.
    is_proved: bool,
}

impl Engine {
    /// The issuer that the gateway is a client of for logins and grants.
    fn first_server(&self) -> Result<&Server, Reason> {
        self.servers.first().ok_or(Reason::InternalError)
    }

    /// Decides about a request of an engine with logins, as a check that may have steps to take.
    pub(super) fn begin_visit(self: &Arc<Self>, request: &Request<'_>) -> Check {
        let identity = self.rules.identity(request.certificate);
        // One that cannot be read is none where nothing but a session could be bound to it.
        let identity = if self.rules.checks_certificate() { identity } else { Ok(identity.unwrap_or_default()) };
        let visit = Visit::of(request, identity, self.shown(request));
        let engine = Arc::clone(self);
        let run = Run::begin(request.now, |host| async move {
            let mut tally = Tally::NONE;
            let outcome = match &engine.logins {
                Some(logins) => engine.visit(&host, logins, &visit, &mut tally).await,
                None => Err(Reason::InternalError.into()),
            };
            let reason = outcome.as_ref().map_or_else(|refusal| refusal.reason, |_| Reason::Allowed);
            engine.metrics.decided(tally.issuer, tally.source, reason);
            outcome
        });
        Check::new(Arc::clone(self), request.scheme(), run)
    }

    async fn visit(&self, host: &Host, logins: &Logins, visit: &Visit, tally: &mut Tally) -> Result<Granted, Refusal> {
        // What comes before the handshake is complete can be replayed: a code, a cookie, a logout.
        if visit.early_data {
            return Err(Reason::EarlyData.into());
        }
        if let Some(code) = &logins.code
            && visit.host == code.host
            && visit.path() == code.path.as_bytes()
        {
            return Err(self.come_back(host, logins, code, visit, tally).await);
        }
        if let Some(sessions) = &logins.sessions
            && logins.logout.is_asked(visit)
        {
            return Err(self.log_out(host, logins, sessions, visit).await);
        }
        self.call_api(host, logins, visit, tally).await
    }

    /// A request for what is behind the gateway.
    async fn call_api(
        &self,
        host: &Host,
        logins: &Logins,
        visit: &Visit,
        tally: &mut Tally,
    ) -> Result<Granted, Refusal> {
        let mut cookies = Vec::new();
        let mut why = None;
        if let Some(sessions) = &logins.sessions {
            match self.by_session(host, logins, sessions, visit, &mut cookies, tally).await {
                Ok(Found::Passage(passage)) => return self.pass(host, logins, visit, *passage, cookies).await,
                Ok(Found::Nothing) => {}
                Ok(Found::Over { refusal, ours }) => {
                    if ours {
                        cookies = cookie::clear(&Jar(&visit.cookie), &sessions.cookie, sessions.same_site);
                    }
                    why = Some(refusal);
                }
                Err(refusal) => return Err(self.dress(refusal, visit, cookies)),
            }
        }
        let passage = match self.by_credentials(host, logins, visit, tally).await {
            Ok(passage) => passage,
            Err(refusal) => return Err(self.with_nonce(self.dress(refusal, visit, cookies), host.now())),
        };
        if let Some(passage) = passage {
            let begun = match &logins.sessions {
                Some(sessions) => self.begin_session(host, logins, sessions, visit, &passage).await,
                None => Ok(Vec::new()),
            };
            // Whoever shows a token with each request needs no session.
            let begun = match begun {
                Err(refusal) if is_no_reason(refusal.reason) => Ok(Vec::new()),
                begun => begun,
            };
            return match begun {
                Ok(cookies) => self.pass(host, logins, visit, passage, cookies).await,
                Err(refusal) => Err(self.dress(refusal, visit, cookies)),
            };
        }
        if let Some(code) = &logins.code
            && visit.is_navigation()
            && visit.host == code.host
        {
            let mut refusal = self.start_login(host, logins, code, visit).await.unwrap_or_else(|refusal| refusal);
            // Why the session before did not do is worth knowing.
            if let Some(why) = why
                && refusal.detail.is_none()
            {
                refusal.detail = Some(why.reason.code().into());
            }
            return Err(self.dress(refusal, visit, cookies));
        }
        Err(self.dress(why.unwrap_or_else(|| Reason::NoToken.into()), visit, cookies))
    }

    /// What came with the request itself, by the order of the methods.
    async fn by_credentials(
        &self,
        host: &Host,
        logins: &Logins,
        visit: &Visit,
        tally: &mut Tally,
    ) -> Result<Option<Passage>, Refusal> {
        let shown = match &visit.shown {
            Err(Reason::NoToken) => None,
            Err(reason) => return Err((*reason).into()),
            Ok(shown) => Some(shown),
        };
        if let Some(shown) = shown
            && (self.bearer || self.introspection)
        {
            let token = &shown.token;
            if !is_token68(token) {
                return Err(Reason::MalformedAuthorization.into());
            }
            let passed = self.settle(host, &Subject::of_client(shown, visit.identity?), None, tally).await?;
            let method = if self.introspection && !crate::jose::jws::Compact::is_like(token) {
                Method::Introspection
            } else {
                Method::Bearer
            };
            let text = String::from_utf8(token.clone()).map_err(|_| Reason::MalformedAuthorization)?;
            let tokens = Tokens {
                access_token: Zeroizing::new(text),
                expires: end_of(&passed.claims),
                obtained: host.now(),
                refresh_token: None,
                id_token: None,
                scope: None,
            };
            let is_proved = !self.rules.possession.is_off();
            return Ok(Some(Passage { method, passed, tokens, subject: None, refresh_token: None, is_proved }));
        }
        self.by_grant(host, logins, visit, tally).await
    }

    /// What an ID token for this client must say.
    fn expected<'a>(
        &'a self,
        logins: &'a Logins,
        server: &'a Server,
        access_token: &'a str,
        nonce: Option<&'a str>,
        subject: Option<&'a str>,
    ) -> Expected<'a> {
        Expected {
            issuer: &server.issuer,
            client_id: server.client_id().unwrap_or_default(),
            nonce,
            access_token,
            subject,
            trusted_audiences: &logins.audiences,
            algorithms: &self.rules.policy.algorithms,
            leeway: self.rules.leeway,
        }
    }

    /// Holds a token that did not come with the request to the rules, with as many steps as that takes.
    async fn judge_token(
        &self,
        host: &Host,
        token: &[u8],
        visit: &Visit,
        holder: Holder,
        tally: &mut Tally,
    ) -> Result<Passed, Refusal> {
        let subject = Subject { token, identity: visit.identity?, holder, offered: None, request: b"" };
        self.settle(host, &subject, None, tally).await
    }

    /// Lets a request go on: with the token that the upstream is to see, and without what is the gateway's own.
    async fn pass(
        &self,
        host: &Host,
        logins: &Logins,
        visit: &Visit,
        passage: Passage,
        cookies: Vec<String>,
    ) -> Result<Granted, Refusal> {
        let Passage { method, passed, tokens, refresh_token, is_proved, .. } = passage;
        let mut changes = self.headers.of(&passed.claims);
        let token = match &logins.upstream {
            Some(arguments) => match self.own_token(host, logins, arguments).await {
                Ok(token) => token,
                Err(refusal) => {
                    let refusal = self.with_refresh_token(refusal, refresh_token.as_ref());
                    return Err(self.dress(refusal, visit, cookies));
                }
            },
            None => tokens.access_token,
        };
        // Whatever came in that header, the upstream sees what was checked, or nothing.
        changes.request.retain(|(name, _)| &**name != "authorization");
        let bearer = (!self.headers.hide_credentials).then(|| format!("Bearer {}", *token));
        changes.request.push(("authorization".into(), bearer));
        if let Some(dpop) = &self.dpop
            && let Ok(Shown { scheme: Scheme::Dpop, .. }) = &visit.shown
        {
            // The gateway's own token is bound to no key of the client's.
            let is_own = logins.upstream.is_some() || !matches!(method, Method::Bearer | Method::Introspection);
            dpop.change(&mut changes, token.as_bytes(), self.headers.hide_credentials, is_own);
            changes.respond(passed.nonce.map(proof::nonce_headers));
            changes.spent = passed.spent;
        } else if self.dpop.is_some() {
            // Nobody looked at one that came all the same.
            changes.set("dpop", None);
        }
        if let Some(sessions) = &logins.sessions
            && !visit.cookie.is_empty()
        {
            let rest = Jar(&visit.cookie).without(|name| sessions.is_own_cookie(name));
            if rest.as_deref() != Some(visit.cookie.as_slice()) {
                let rest = rest.map(|rest| String::from_utf8_lossy(&rest).into_owned());
                changes.request.push(("cookie".into(), rest));
            }
        }
        if logins.refresh_token {
            changes.request.push(("refresh-token".into(), None));
            if let Some(token) = refresh_token {
                changes.response.push(("refresh-token".into(), String::clone(&token)));
                // RFC 6749 §5.1
                changes.response.push(("cache-control".into(), "no-store".into()));
            }
        }
        changes.response.extend(cookies.into_iter().map(|cookie| ("set-cookie".into(), cookie)));
        let mut granted = Granted::new(passed.bound, passed.claims, Some(Box::new(changes)));
        if passed.is_unremembered {
            granted.note(proof::UNREMEMBERED.to_owned());
        }
        if !self.rules.possession.is_off() && !is_proved {
            self.metrics.binding_skipped(method);
            granted.note(format!("proof of possession was not checked, method={}", method.name()));
        }
        Ok(granted)
    }
}

/// Whether a request that needs no session goes on without one that could not begin for this.
fn is_no_reason(reason: Reason) -> bool {
    matches!(reason, Reason::StoreUnavailable | Reason::SessionCertificateMissing)
}

/// When the token of these claims ends, Unix seconds.
fn end_of(text: &[u8]) -> Option<i64> {
    json::parse_object(text).ok().and_then(|object| claims::date(&object, "exp").ok().flatten())
}
