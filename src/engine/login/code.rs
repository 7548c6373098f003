//! Logins of browsers: the authorization code flow with PKCE (RFC 6749 §4.1, RFC 7636, RFC 9126, RFC 9207, OpenID Connect Core 1.0 §3.1).

use super::answers::redirect;
use super::config::{Code, Logins, Sessions};
use super::visit::Visit;
use super::{Holder, Passage, end_of};
use crate::cert::Thumbprint;
use crate::client::TokenSet;
use crate::client::authorization::{self, Returned, Transaction};
use crate::client::shared::{self, Domain};
use crate::client::token_response::TokenError;
use crate::crypto;
use crate::engine::{Engine, Tally};
use crate::reason::Reason;
use crate::session::Method;
use crate::session::cookie::{self, Jar, SameSite};
use crate::steps::{Host, Refusal};

/// Most of the cookies of logins that a browser has under way, in bytes: all come with every request, and nginx takes 8 KiB of them.
const MAX_UNDER_WAY: usize = 4096;
/// Longest path and query that a login leads back to, in bytes: it is in the login's cookie.
const MAX_RETURN: usize = 1024;

impl Engine {
    /// Sends a browser to the authorization server.
    pub(super) async fn start_login(
        &self,
        host: &Host,
        logins: &Logins,
        code: &Code,
        visit: &Visit,
    ) -> Result<Refusal, Refusal> {
        let sessions = logins.sessions.as_ref().ok_or(Reason::InternalError)?;
        let server = self.first_server()?;
        // Not at the end of the login, when the user has done it all.
        let audience = sessions.login_audience(self.bind(logins, visit)?.as_ref());
        let metadata = server.reached_metadata(host).await?;
        let target = std::str::from_utf8(&visit.target).ok().and_then(authorization::return_to);
        let fits = |target: &&str| target.len() <= MAX_RETURN && !logins.logout.is_path(visit);
        let target = target.filter(fits).unwrap_or("/");
        let transaction = Transaction::new(target, host.now()).ok_or(Reason::InternalError)?;
        let client_id = server.client_id().ok_or(Reason::InternalError)?;
        let scope = logins.scopes.join(" ");
        let parameters =
            authorization::parameters(&transaction, client_id, &code.redirect_uri, &scope, &code.arguments);
        let endpoint = match &code.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => metadata.authorization()?,
        };
        let parameters = if code.par.unwrap_or(metadata.requires_par) {
            let request_uri = server.push(host, parameters).await?;
            vec![("client_id".to_owned(), client_id.to_owned()), ("request_uri".to_owned(), request_uri)]
        } else {
            parameters
        };
        let name = sessions.login_cookie(&transaction.state);
        let place = sessions.login_place(&name, &visit.host, &audience);
        let sealed = sessions.keyring.seal(&place, &transaction.to_json()).ok_or(Reason::InternalError)?;
        let jar = Jar(&visit.cookie);
        let max_age = u32::try_from(code.timeout).ok();
        // The browser comes back from another site: with `Strict` it would not bring the cookie.
        let mut cookies = cookie::write(&jar, &name, &sealed, SameSite::Lax, max_age).ok_or(Reason::InternalError)?;
        // Where too many logins were begun and not ended, the oldest give way: those come first (RFC 6265 §5.4).
        let others: Vec<&str> = jar.names_with(&sessions.login_prefix()).collect();
        let size = |name: &str| name.len().saturating_add(jar.get(name).ok().flatten().map_or(0, <[u8]>::len));
        let own = cookies.iter().map(String::len).fold(0usize, usize::saturating_add);
        let mut total = others.iter().map(|name| size(name)).fold(own, usize::saturating_add);
        for name in others {
            if total > MAX_UNDER_WAY {
                total = total.saturating_sub(size(name));
                cookies.extend(cookie::clear(&jar, name, SameSite::Lax));
            }
        }
        Ok(redirect(Reason::LoginStarted, authorization::url(&endpoint, &parameters), cookies))
    }

    /// Takes a browser back that comes from the authorization server: there is always an answer, and never a request that goes on.
    pub(super) async fn come_back(
        &self,
        host: &Host,
        logins: &Logins,
        code: &Code,
        visit: &Visit,
        tally: &mut Tally,
    ) -> Refusal {
        let mut cookies = Vec::new();
        match self.end_login(host, logins, code, visit, &mut cookies, tally).await {
            Ok(redirect) => redirect,
            Err(refusal) => self.dress(refusal, visit, cookies),
        }
    }

    async fn end_login(
        &self,
        host: &Host,
        logins: &Logins,
        code: &Code,
        visit: &Visit,
        cookies: &mut Vec<String>,
        tally: &mut Tally,
    ) -> Result<Refusal, Refusal> {
        let sessions = logins.sessions.as_ref().ok_or(Reason::InternalError)?;
        let server = self.first_server()?;
        tally.issuer = 0;
        let malformed = |why: &'static str| Refusal::new(Reason::LoginResponseMalformed, why);
        if visit.method != b"GET" {
            return Err(malformed("it did not come by GET"));
        }
        let callback = authorization::callback(visit.query()).map_err(malformed)?;
        let bound_to = self.bind(logins, visit)?;
        let audience = sessions.login_audience(bound_to.as_ref());
        let (transaction, name) = self.transaction(host, code, sessions, visit, &audience, &callback.state)?;
        // What comes now ends this login, whatever it is; the next one has another cookie.
        cookies.extend(cookie::clear(&Jar(&visit.cookie), &name, SameSite::Lax));
        let metadata = server.metadata(host).await?;
        if !authorization::check_iss(callback.iss.as_deref(), &server.issuer, metadata.promises_iss) {
            return Err(Reason::LoginIssuerMismatch.into());
        }
        let granted = match callback.returned {
            Returned::Code { code } => code,
            Returned::Error { error } => {
                let reason = match error.as_str() {
                    "temporarily_unavailable" | "server_error" => Reason::ServerUnavailable,
                    _ => Reason::LoginRefused,
                };
                return Err(Refusal::new(reason, format!("the authorization server said {error}")));
            }
        };
        let used = shared::hash(Domain::Login, &[&server.trust, transaction.state.as_bytes()]);
        let age = host.now().saturating_sub(transaction.begun);
        match server.shared.lock(host, used, b"used", code.timeout.saturating_sub(age)).await {
            Some(true) => {}
            Some(false) => return Err(Reason::LoginStateReused.into()),
            None => return Err(Reason::StoreUnavailable.into()),
        }
        let passage = self.redeem(host, logins, code, visit, bound_to, &transaction, &granted, tally).await?;
        let before = self.open_session(host, sessions, visit).await;
        let session = self.begin_session(host, logins, sessions, visit, &passage).await?;
        cookies.extend(session);
        // The session before this login is of no more use to anybody.
        if let Ok(Some((before, _))) = before
            && self.check_bound(sessions, visit, &before, &mut Vec::new()).is_ok()
        {
            self.end_session(host, sessions, visit, &before).await;
        }
        let location = [code.origin.as_str(), transaction.return_to.as_str()].concat();
        Ok(redirect(Reason::LoginCompleted, location, std::mem::take(cookies)))
    }

    /// The login that this browser has begun under this `state`, and the name of its cookie.
    fn transaction(
        &self,
        host: &Host,
        code: &Code,
        sessions: &Sessions,
        visit: &Visit,
        audience: &str,
        state: &str,
    ) -> Result<(Transaction, String), Refusal> {
        let name = sessions.login_cookie(state);
        let sealed = match Jar(&visit.cookie).read(&name) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return Err(Reason::LoginStateMissing.into()),
            Err(_) => return Err(Reason::LoginStateInvalid.into()),
        };
        let opened = sessions.keyring.open(&sessions.login_place(&name, &visit.host, audience), &sealed);
        let transaction = opened.and_then(|opened| Transaction::parse(&opened.plaintext));
        let transaction = transaction.ok_or(Reason::LoginStateInvalid)?;
        let is_same = crypto::equal(&crypto::sha256(transaction.state.as_bytes()), &crypto::sha256(state.as_bytes()));
        let age = host.now().saturating_sub(transaction.begun);
        if !is_same || !(-60..code.timeout).contains(&age) {
            return Err(Reason::LoginStateInvalid.into());
        }
        Ok((transaction, name))
    }

    /// Exchanges the code for tokens, once, and holds them to the rules.
    #[expect(clippy::too_many_arguments, reason = "each is another thing that the exchange is about")]
    async fn redeem(
        &self,
        host: &Host,
        logins: &Logins,
        code: &Code,
        visit: &Visit,
        bound_to: Option<Thumbprint>,
        transaction: &Transaction,
        granted: &str,
        tally: &mut Tally,
    ) -> Result<Passage, Refusal> {
        let server = self.first_server()?;
        let form = vec![
            ("grant_type".to_owned(), "authorization_code".to_owned()),
            ("code".to_owned(), granted.to_owned()),
            ("redirect_uri".to_owned(), code.redirect_uri.clone()),
            ("code_verifier".to_owned(), transaction.verifier.clone()),
        ];
        let flight = shared::hash(Domain::Code, &[&server.trust, transaction.nonce.as_bytes()]);
        let set = server.token(host, form, &logins.token_arguments, None, flight).await;
        let TokenSet { mut tokens, id_token, .. } = set.map_err(|error| match error {
            TokenError::Refused(code) => Refusal::new(Reason::CodeRefused, code.unwrap_or_default()),
            TokenError::Client(detail) => Refusal::new(Reason::ClientRefused, detail),
            TokenError::Unavailable(detail) => Refusal::new(Reason::ServerUnavailable, detail),
        })?;
        let id_token = id_token.ok_or_else(|| Refusal::new(Reason::IdTokenInvalid, "there is none"))?;
        let expected = self.expected(logins, server, &tokens.access_token, Some(&transaction.nonce), None);
        let subject = server.check_id_token(host, id_token.as_bytes(), &expected).await?.subject;
        let holder = Holder::Gateway(bound_to);
        let passed = self.judge_token(host, tokens.access_token.as_bytes(), visit, holder, tally).await?;
        tokens.id_token = Some(id_token);
        tokens.expires = match (tokens.expires, end_of(&passed.claims)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(Passage {
            method: Method::AuthorizationCode,
            passed,
            tokens,
            subject: Some(subject),
            refresh_token: None,
            is_proved: bound_to.is_some(),
        })
    }
}
