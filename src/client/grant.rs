//! What the gateway asks the authorization server for besides introspection: tokens, pushed requests, revocation.

use super::auth::ClientAuth;
use super::id_token::{self, Expected, IdToken, Invalid};
use super::introspection;
use super::shared::{self, Domain};
use super::token_response::{self, TokenError};
use super::{EndpointSetup, Failure, Server};
use crate::crypto;
use crate::jose::json::{self, Value};
use crate::jose::jwk::JwkSet;
use crate::reason::Reason;
use crate::session::Tokens;
use crate::steps::{Endpoint, Fetched, Host, Outcome, Refusal};
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

    /// A request that has effects: never one answer for two of them.
    pub(crate) async fn call_alone(
        &self,
        host: &Host,
        endpoint: Endpoint,
        form: Vec<(String, String)>,
    ) -> Result<Fetched, Refusal> {
        let flight = shared::hash(Domain::Call, &[&crypto::random::<16>().ok_or(Reason::InternalError)?]);
        self.call(host, endpoint, form, accept_json(), flight).await
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
        let fetched = self.call_as(host, auth, Endpoint::Token, form, accept_json(), flight).await;
        let fetched = fetched.map_err(|refusal| TokenError::Unavailable(refusal.text()))?;
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
        let verify = |keys: &JwkSet, now| id_token::verify(token, expected, keys, now);
        let is_of_keys = |invalid: &Invalid| match invalid {
            Invalid::Key(reason) => Some(*reason),
            Invalid::Rule(_) => None,
        };
        self.verify_with_keys(host, verify, is_of_keys).await?.map_err(|invalid| {
            let what = match invalid {
                Invalid::Key(reason) => reason.code(),
                Invalid::Rule(rule) => rule,
            };
            Refusal::new(Reason::IdTokenInvalid, what)
        })
    }

    /// Pushes an authorization request (RFC 9126 §2): its `request_uri`.
    pub(crate) async fn push(&self, host: &Host, form: Vec<(String, String)>) -> Result<String, Refusal> {
        let fetched = self.call_alone(host, Endpoint::Par, form).await?;
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

    /// Revokes a token (RFC 7009 §2.1).
    ///
    /// # Errors
    /// Why the server did not.
    pub(crate) async fn revoke(&self, host: &Host, token: &str, hint: &str) -> Result<(), String> {
        let form = vec![("token".to_owned(), token.to_owned()), ("token_type_hint".to_owned(), hint.to_owned())];
        let fetched = self.call_alone(host, Endpoint::Revocation, form).await.map_err(Refusal::text)?;
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
