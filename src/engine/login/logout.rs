//! Logouts: the session ends here, its tokens at the authorization server (RFC 7009), and the user's login there (OpenID Connect RP-Initiated
//! Logout 1.0).

use super::answers::{answer, page, redirect};
use super::config::{Logins, Logout, Sessions};
use super::visit::Visit;
use crate::client::Server;
use crate::client::authorization;
use crate::engine::Engine;
use crate::engine::respond::JSON;
use crate::jose::json::Value;
use crate::reason::Reason;
use crate::session::Session;
use crate::session::cookie::{self, Jar};
use crate::steps::{Host, Refusal};

impl Logout {
    pub(super) fn is_path(&self, visit: &Visit) -> bool {
        self.suffix.as_deref().is_some_and(|suffix| visit.path().ends_with(suffix.as_bytes()))
    }

    pub(super) fn is_asked(&self, visit: &Visit) -> bool {
        self.is_path(visit) && self.methods.iter().any(|method| method.as_bytes() == visit.method)
    }
}

impl Engine {
    /// Logs out: always an answer. What fails at the authorization server is told in the log, and the session ends all the same.
    pub(super) async fn log_out(&self, host: &Host, logins: &Logins, sessions: &Sessions, visit: &Visit) -> Refusal {
        if visit.is_cross_site() {
            return self.dress(Reason::LogoutCrossSite.into(), visit, Vec::new());
        }
        let opened = match self.open_session(host, sessions, visit).await {
            Ok(opened) => opened.map(|(session, _)| session),
            Err(refusal) if refusal.reason == Reason::StoreUnavailable => {
                return self.dress(refusal, visit, Vec::new());
            }
            Err(_) => None,
        };
        let mut failed = Vec::new();
        if let Some(session) = &opened {
            // A thief does not even log out.
            let mut cookies = Vec::new();
            if let Err(reason) = self.check_bound(sessions, visit, session, &mut cookies) {
                return self.dress(reason.into(), visit, cookies);
            }
            // Nobody is told that he is logged out who is not.
            if !self.end_session(host, sessions, visit, session).await && sessions.in_store {
                return self.dress(Reason::StoreUnavailable.into(), visit, Vec::new());
            }
            if let Some(server) = self.servers.first() {
                self.revoke(host, &logins.logout, server, session, &mut failed).await;
            }
        }
        let next = self.next(host, &logins.logout, opened.as_ref(), &mut failed).await;
        let cookies = cookie::clear(&Jar(&visit.cookie), &sessions.cookie, sessions.same_site);
        let mut refusal = self.logged_out(visit, next, cookies);
        refusal.detail = (!failed.is_empty()).then(|| failed.join("; ").into());
        refusal
    }

    /// Revokes the refresh token and then the access token: of the first the second may be made anew.
    async fn revoke(&self, host: &Host, logout: &Logout, server: &Server, session: &Session, failed: &mut Vec<String>) {
        let refresh = session.tokens.refresh_token.as_ref().filter(|_| logout.revoke_refresh_token);
        let access = Some(&session.tokens.access_token).filter(|_| logout.revoke_access_token);
        for (token, hint) in [(refresh, "refresh_token"), (access, "access_token")] {
            if let Some(token) = token {
                let outcome = server.revoke(host, token, hint).await;
                self.metrics.revoked(outcome.is_ok());
                if let Err(why) = outcome {
                    failed.push(format!("the {hint} could not be revoked: {why}"));
                }
            }
        }
    }

    /// Where the browser goes on to: to log out at the authorization server, too, where that is possible.
    async fn next(
        &self,
        host: &Host,
        logout: &Logout,
        session: Option<&Session>,
        failed: &mut Vec<String>,
    ) -> Option<String> {
        let own = || logout.redirect_uri.clone();
        let (Some(server), Some(session)) = (self.servers.first(), session) else {
            return own();
        };
        let endpoint = match &logout.end_session {
            Some(endpoint) => Ok(Some(endpoint.clone())),
            None => match server.metadata(host).await {
                Ok(metadata) => metadata.end_session(),
                Err(refusal) => Err(refusal),
            },
        };
        let endpoint = match endpoint {
            Ok(Some(endpoint)) => endpoint,
            Ok(None) => return own(),
            Err(refusal) => {
                failed.push(refusal.text());
                return own();
            }
        };
        // Only who logged in there is logged out there.
        let Some(hint) = &session.tokens.id_token else {
            return own();
        };
        let mut parameters = vec![("id_token_hint".to_owned(), String::clone(hint))];
        parameters.extend(server.client_id().map(|id| ("client_id".to_owned(), id.to_owned())));
        parameters.extend(logout.redirect_uri.iter().map(|uri| ("post_logout_redirect_uri".to_owned(), uri.clone())));
        Some(authorization::url(&endpoint, &parameters))
    }

    /// A browser is sent on; a program is told where a browser could go on.
    fn logged_out(&self, visit: &Visit, next: Option<String>, cookies: Vec<String>) -> Refusal {
        const REASON: Reason = Reason::LoggedOut;
        if let (Some(next), true) = (&next, visit.is_page()) {
            return redirect(REASON, next.clone(), cookies);
        }
        let mut response = answer(REASON, 200, cookies);
        if visit.is_page() {
            page(&mut response, REASON, false);
        } else {
            let text = |text: String| Value::Str(text.into());
            let members = [("message".into(), text("Logged out".into()))];
            let next = next.map(|next| ("logout_uri".into(), text(next)));
            response.content_type = JSON;
            response.body = Value::Object(members.into_iter().chain(next).collect()).to_string().into();
        }
        response.into()
    }
}
