//! What the gateway asks the authorization server for besides introspection: tokens, pushed requests, revocation.

use super::auth::ClientAuth;
use super::id_token::{self, Expected, IdToken, Invalid};
use super::introspection;
use super::shared::{self, Domain};
use super::token_response::{self, TokenError};
use super::{EndpointSetup, Failure, Server};
use crate::crypto;
use crate::jose::json::{self, Value};
use crate::reason::Reason;
use crate::session::Tokens;
use crate::steps::{Endpoint, Host, Outcome, Refusal};
use zeroize::Zeroizing;

/// Longest `request_uri` that is passed on, in bytes: it goes into a URL.
const MAX_REQUEST_URI: usize = 2048;

/// What a token request gave. Of the ID token nothing is checked yet.
pub(crate) struct TokenSet {
    pub(crate) tokens: Tokens,
    pub(crate) id_token: Option<Zeroizing<String>>,
    /// Whether another request got the same.
    pub(crate) is_shared: bool,
}

fn accept_json() -> Vec<(String, String)> {
    vec![("accept".to_owned(), "application/json".to_owned())]
}

impl Server {
    /// The gateway's name here.
    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client.as_ref().map(|[_, token, ..]| token.auth.client_id.as_str())
    }

    /// Tells the gateway as a client of the token endpoint from all others, for the keys of caches.
    pub(crate) fn token_client(&self) -> String {
        let Some([_, EndpointSetup { url, mtls_url, auth, .. }, ..]) = &self.client else {
            return String::new();
        };
        format!("{}:{} {} {url:?} {mtls_url:?}", auth.client_id.len(), auth.client_id, auth.method.kind())
    }

    /// A token request (RFC 6749 §3.2), by the gateway or by `auth`. It is never sent a second time.
    pub(crate) async fn token(
        &self,
        host: &Host,
        mut form: Vec<(String, String)>,
        arguments: &[(String, String)],
        auth: Option<&ClientAuth>,
        flight: [u8; 32],
    ) -> Result<TokenSet, TokenError> {
        form.extend(arguments.iter().cloned());
        let fetched =
            self.call_as(host, auth, Endpoint::Token, form, accept_json(), flight).await.map_err(|refusal| {
                TokenError::Unavailable(refusal.detail.map_or_else(|| refusal.reason.code().to_owned(), String::from))
            })?;
        let response = token_response::read(&fetched)?;
        let now = host.now();
        Ok(TokenSet {
            tokens: Tokens {
                access_token: response.access_token,
                expires: response.expires_in.map(|life| now.saturating_add(life)),
                obtained: now,
                refresh_token: response.refresh_token,
                id_token: None,
                scope: response.scope,
            },
            id_token: response.id_token,
            is_shared: fetched.joined,
        })
    }

    /// Checks an ID token with the keys of the server, which are fetched where that is needed.
    pub(crate) async fn check_id_token(
        &self,
        host: &Host,
        token: &[u8],
        expected: &Expected<'_>,
    ) -> Result<IdToken, Refusal> {
        let invalid = |what: &str| Refusal::new(Reason::IdTokenInvalid, what);
        let (mut refetched, mut adopted) = (false, false);
        loop {
            let keys = self.usable_keys(host).await?;
            let reason = match id_token::verify(token, expected, &keys.set, host.now()) {
                Ok(checked) => return Ok(checked),
                Err(Invalid::Rule(rule)) => return Err(invalid(rule)),
                Err(Invalid::Key(reason)) if refetched => return Err(invalid(reason.code())),
                Err(Invalid::Key(reason)) => reason,
            };
            match self.keys.after(reason, host.now()) {
                // What another worker has may be from before the token: then it is not fetched yet.
                Ok(why) => refetched = self.fetch_keys(host, why).await? || std::mem::replace(&mut adopted, true),
                Err(reason) => return Err(invalid(reason.code())),
            }
        }
    }

    /// Pushes an authorization request (RFC 9126 §2): its `request_uri`.
    pub(crate) async fn push(&self, host: &Host, mut form: Vec<(String, String)>) -> Result<String, Refusal> {
        // The client is named by what authenticates it.
        form.retain(|(name, _)| name != "client_id");
        let flight = shared::hash(Domain::Call, &[&crypto::random::<16>().ok_or(Reason::InternalError)?]);
        let (auth, is_named) = (self.client_id().unwrap_or_default().to_owned(), self.names_itself());
        if !is_named {
            // RFC 9126 §2.1: client_id is a parameter of the request, whatever authenticates.
            form.push(("client_id".to_owned(), auth));
        }
        let fetched = self.call(host, Endpoint::Par, form, accept_json(), flight).await?;
        if introspection::is_client_refused(&fetched) {
            return Err(introspection::client_refused(Endpoint::Par, &fetched));
        }
        let refuse = |what: String| Refusal::new(Reason::ServerUnavailable, format!("the pushed request: {what}"));
        // RFC 9126 §2.2 says 201; some servers say 200.
        let is_created =
            fetched.outcome == Outcome::Answered && fetched.status == 201 && fetched.is("application/json");
        if let Some(failure) = Failure::of(&fetched, "application/json").filter(|_| !is_created) {
            return Err(refuse(failure.detail));
        }
        let body = json::parse_object(&fetched.body).map_err(|_| refuse("the answer is not strict JSON".into()))?;
        let sendable =
            |uri: &&str| (1..=MAX_REQUEST_URI).contains(&uri.len()) && uri.bytes().all(|c| (0x21..=0x7e).contains(&c));
        let uri = body.get("request_uri").and_then(Value::as_str).filter(sendable);
        uri.map(str::to_owned).ok_or_else(|| refuse("there is no request_uri".into()))
    }

    /// Whether the way of authenticating puts `client_id` into the form by itself.
    fn names_itself(&self) -> bool {
        use super::auth::Method;
        self.client.as_ref().is_some_and(|[_, _, _, par]| !matches!(par.auth.method, Method::SecretBasic(_)))
    }

    /// Revokes a token (RFC 7009 §2.1).
    ///
    /// # Errors
    /// Why the server did not.
    pub(crate) async fn revoke(&self, host: &Host, token: &str, hint: &str) -> Result<(), String> {
        let form = vec![("token".to_owned(), token.to_owned()), ("token_type_hint".to_owned(), hint.to_owned())];
        let random = crypto::random::<16>().ok_or("there is no randomness")?;
        let flight = shared::hash(Domain::Call, &[&random]);
        let fetched = self
            .call(host, Endpoint::Revocation, form, accept_json(), flight)
            .await
            .map_err(|refusal| refusal.detail.map_or_else(|| refusal.reason.code().to_owned(), String::from))?;
        match (fetched.outcome, fetched.status) {
            (Outcome::Answered, 200) => Ok(()),
            _ => {
                let why = Failure::of(&fetched, "application/json").map(|failure| failure.detail).unwrap_or_default();
                // `unsupported_token_type` of a JWT is the one that operators should know (RFC 7009 §2.2.1).
                Err(token_response::error_code(&fetched.body)
                    .map_or_else(|| why.clone(), |code| format!("{why}, {code}")))
            }
        }
    }
}
