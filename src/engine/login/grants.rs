//! Grants for which the request brings the credentials: password, client credentials, refresh token (RFC 6749 §4.3, §4.4, §6); and the
//! gateway's own token for the upstream.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::config::{Logins, Places};
use super::sessions::AFTERGLOW;
use super::visit::Visit;
use super::{Holder, Passage};
use crate::client::auth::{ClientAuth, Method as AuthMethod};
use crate::client::id_token::Expected;
use crate::client::shared::{self, Domain};
use crate::client::token_response::TokenError;
use crate::client::{Server, TokenSet};
use crate::crypto;
use crate::engine::cache::{Grant, Refused};
use crate::engine::{Engine, Tally};
use crate::reason::Reason;
use crate::session::{Method, Session, Tokens};
use crate::steps::{Host, Refusal};

/// Longest credentials, in bytes.
const MAX_CREDENTIALS: usize = 4096;
/// How long credentials that the server refused are refused without asking, in seconds: a flood of them does not reach it.
const REFUSED: i64 = 5;
/// How long nobody asks again for the gateway's own token after that failed, in seconds.
const PAUSE: i64 = 1;
/// How long before its end a token that can be fetched anew is no longer given out, in seconds; at most a third of its life.
const MARGIN: i64 = 30;
/// Longest that a token is kept of which the server does not say how long it lives, in seconds.
const UNKNOWN: i64 = 60;

/// A name and a secret.
struct Pair {
    name: Zeroizing<String>,
    secret: Zeroizing<String>,
}

/// A request for a token.
struct Wanted {
    method: Method,
    form: Vec<(String, String)>,
    /// The client that asks, where that is not the gateway
    auth: Option<ClientAuth>,
    /// What tells these credentials from all others; whoever holds them may read what is kept.
    credentials: Zeroizing<Vec<u8>>,
}

impl Engine {
    /// The first of the grants for which the request brings something.
    pub(super) async fn by_grant(
        &self,
        host: &Host,
        logins: &Logins,
        visit: &Visit,
        tally: &mut Tally,
    ) -> Result<Option<Passage>, Refusal> {
        let Some(wanted) = wanted(logins, visit)? else {
            return Ok(None);
        };
        tally.issuer = 0;
        let server = self.servers.first().ok_or(Reason::InternalError)?;
        let (tokens, subject) = self.granted(host, logins, server, &wanted).await?;
        // The token is bound to the gateway, if it is bound.
        let judged =
            self.judge_token(host, tokens.access_token.as_bytes(), visit, Holder::Gateway(None), tally).await?;
        let refresh_token = tokens.refresh_token.clone().filter(|_| wanted.method == Method::RefreshToken);
        Ok(Some(Passage {
            method: wanted.method,
            judged,
            tokens: Some(tokens),
            subject,
            refresh_token: refresh_token.filter(|new| new.as_bytes() != visit.refresh_token.as_slice()),
            is_proved: false,
        }))
    }

    /// The tokens for credentials: remembered here, by another worker, or fetched.
    async fn granted(
        &self,
        host: &Host,
        logins: &Logins,
        server: &Server,
        wanted: &Wanted,
    ) -> Result<(Tokens, Option<String>), Refusal> {
        let parts = [&server.trust[..], wanted.method.name().as_bytes(), &wanted.credentials];
        let hash = shared::hash(Domain::Grant, &parts);
        // Who reads this memory does not learn a password by trying some.
        let place = crypto::hmac_sha256(&self.salt, &hash);
        let now = host.now();
        let kept = self.memory.try_lock().ok().and_then(|mut memory| memory.grants.get(&place).cloned());
        if let Some(grant) = kept.filter(|grant| grant.is_fresh(now)) {
            return Ok((Tokens::clone(&grant.session.tokens), grant.session.subject.clone()));
        }
        self.check_refused(&place, now)?;
        let stored = server.shared.read_of(host, &wanted.credentials, hash).await;
        if let Some(session) = stored.and_then(|(_, text)| Session::parse(&text)) {
            let grant = wanted.keep(session);
            if grant.is_fresh(host.now()) {
                self.keep_grant(&place, grant.clone(), host.now());
                return Ok((Tokens::clone(&grant.session.tokens), grant.session.subject.clone()));
            }
        }
        let form = wanted.form.clone();
        let set = server.token(host, form, &logins.token_arguments, wanted.auth.as_ref(), hash).await;
        let TokenSet { mut tokens, id_token } = set.map_err(|e| self.no_grant(e, wanted, &place, host.now()))?;
        if wanted.method == Method::ClientCredentials {
            // It is the client's, and the gateway could not use it.
            tokens.refresh_token = None;
        }
        let subject = match &id_token {
            Some(token) => {
                let expected = Expected {
                    issuer: &server.issuer,
                    client_id: server.client_id().unwrap_or_default(),
                    nonce: None,
                    access_token: &tokens.access_token,
                    subject: None,
                    trusted_audiences: &logins.audiences,
                    algorithms: &self.rules.policy.algorithms,
                    leeway: self.rules.leeway,
                };
                Some(server.check_id_token(host, token.as_bytes(), &expected).await?.subject)
            }
            None => None,
        };
        tokens.id_token = id_token;
        let now = host.now();
        let session = Session {
            id: [0; 32],
            method: wanted.method,
            tokens: tokens.clone(),
            subject: subject.clone(),
            thumbprint: None,
            created: now,
            renewed: now,
            used: now,
        };
        let text = session.to_json();
        let grant = wanted.keep(session);
        let ttl = grant.until.saturating_sub(now);
        server.shared.write_of(host, &wanted.credentials, hash, now, &text, ttl).await;
        self.keep_grant(&place, grant, now);
        Ok((tokens, subject))
    }

    fn keep_grant(&self, place: &[u8; 32], grant: Grant, now: i64) {
        if let Ok(mut memory) = self.memory.try_lock() {
            memory.grants.insert(place, grant, now);
        }
    }

    fn no_grant(&self, error: TokenError, wanted: &Wanted, place: &[u8; 32], now: i64) -> Refusal {
        let refused = match error {
            TokenError::Refused(code) => code.unwrap_or_else(|| "unknown error".into()),
            // Of the client's own credentials the server says it so.
            TokenError::Client(detail) if wanted.auth.is_some() => detail,
            TokenError::Client(detail) => return Refusal::new(Reason::ClientRefused, detail),
            TokenError::Unavailable(detail) => return Refusal::new(Reason::ServerUnavailable, detail),
        };
        self.refuse_for(place, Reason::CredentialsRefused, REFUSED, now);
        Refusal::new(Reason::CredentialsRefused, format!("{}: {refused}", wanted.method.name()))
    }

    /// Refuses what is at this place for a while without asking.
    fn refuse_for(&self, place: &[u8; 32], reason: Reason, seconds: i64, now: i64) {
        if let Ok(mut memory) = self.memory.try_lock() {
            let until = now.saturating_add(seconds);
            memory.refused.insert(place, Refused { reason, since: now, until }, now);
        }
    }

    /// The gateway's own access token for the upstream (RFC 6749 §4.4).
    pub(super) async fn own_token(
        &self,
        host: &Host,
        arguments: &[(String, String)],
    ) -> Result<Zeroizing<String>, Refusal> {
        let server = self.servers.first().ok_or(Reason::InternalError)?;
        let asked: String = arguments.iter().map(|(name, value)| format!("{name}\n{value}\n")).collect();
        let client = server.client_id().unwrap_or_default();
        let key = shared::hash(Domain::OwnToken, &[&server.trust, client.as_bytes(), asked.as_bytes()]);
        let kept = self.memory.try_lock().ok().and_then(|mut memory| memory.grants.get(&key).cloned());
        if let Some(grant) = kept.filter(|grant| grant.is_fresh(host.now())) {
            return Ok(grant.session.tokens.access_token.clone());
        }
        if let Some((_, text)) = server.shared.read(host, key).await
            && let Some(session) = Session::parse(&Zeroizing::new(text))
        {
            let grant = Grant::new(session, MARGIN, UNKNOWN);
            if grant.is_fresh(host.now()) {
                self.keep_grant(&key, grant.clone(), host.now());
                return Ok(grant.session.tokens.access_token.clone());
            }
        }
        self.check_refused(&key, host.now())?;
        let form = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
        let set = server.token(host, form, arguments, None, key).await.map_err(|error| {
            // Every request needs it: not each of them is to wait for a server that does not answer.
            self.refuse_for(&key, Reason::ServerUnavailable, PAUSE, host.now());
            match error {
                TokenError::Client(detail) => Refusal::new(Reason::ClientRefused, detail),
                TokenError::Refused(code) => Refusal::new(
                    Reason::ServerUnavailable,
                    format!("the gateway's own token was refused: {}", code.unwrap_or_default()),
                ),
                TokenError::Unavailable(detail) => Refusal::new(Reason::ServerUnavailable, detail),
            }
        })?;
        let now = host.now();
        let token = set.tokens.access_token.clone();
        let session = Session {
            id: [0; 32],
            method: Method::ClientCredentials,
            tokens: Tokens { refresh_token: None, ..set.tokens },
            subject: None,
            thumbprint: None,
            created: now,
            renewed: now,
            used: now,
        };
        let text = session.to_json();
        let grant = Grant::new(session, MARGIN, UNKNOWN);
        server.shared.write(host, key, now, &text, grant.until.saturating_sub(now)).await;
        self.keep_grant(&key, grant, now);
        Ok(token)
    }
}

impl Wanted {
    /// What is kept of an answer, and how long.
    fn keep(&self, session: Session) -> Grant {
        let obtained = session.tokens.obtained;
        let grant = Grant::new(session, MARGIN, UNKNOWN);
        match self.method {
            // A refresh token may be used up by now: requests that came with it at the same time get the same answer, and nobody does later.
            Method::RefreshToken => Grant { until: grant.until.min(obtained.saturating_add(AFTERGLOW)), ..grant },
            _ => grant,
        }
    }
}

/// What a request brings credentials for.
fn wanted(logins: &Logins, visit: &Visit) -> Result<Option<Wanted>, Reason> {
    let grant_type = |name: &str| ("grant_type".to_owned(), name.to_owned());
    let scope = |without: &[&str]| {
        let scopes: Vec<&str> = logins.scopes.iter().map(String::as_str).filter(|s| !without.contains(s)).collect();
        (!scopes.is_empty()).then(|| ("scope".to_owned(), scopes.join(" ")))
    };
    if logins.refresh_token && !visit.refresh_token.is_empty() {
        let token = text(&visit.refresh_token)?;
        if token.bytes().any(|c| !(0x21..=0x7e).contains(&c)) {
            return Err(Reason::CredentialsMalformed);
        }
        return Ok(Some(Wanted {
            method: Method::RefreshToken,
            form: vec![grant_type("refresh_token"), ("refresh_token".into(), String::clone(&token))],
            auth: None,
            credentials: Zeroizing::new(token.as_bytes().to_vec()),
        }));
    }
    if let Some(places) = logins.password
        && let Some(pair) = pair(places, visit, "username", "password")?
    {
        let mut form = vec![
            grant_type("password"),
            ("username".to_owned(), String::clone(&pair.name)),
            ("password".to_owned(), String::clone(&pair.secret)),
        ];
        form.extend(scope(&[]));
        return Ok(Some(Wanted { method: Method::Password, form, auth: None, credentials: pair.bytes() }));
    }
    if let Some(places) = logins.client_credentials
        && let Some(pair) = pair(places, visit, "client_id", "client_secret")?
    {
        let mut form = vec![grant_type("client_credentials")];
        form.extend(scope(&["openid", "offline_access"]));
        let credentials = pair.bytes();
        let method = AuthMethod::SecretBasic(Arc::new(pair.secret));
        let auth = Some(ClientAuth { client_id: String::clone(&pair.name), method });
        return Ok(Some(Wanted { method: Method::ClientCredentials, form, auth, credentials }));
    }
    Ok(None)
}

impl Pair {
    /// With the length of the name, so that no two pairs are the same bytes.
    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let len = (self.name.len() as u64).to_be_bytes();
        Zeroizing::new([&len[..], self.name.as_bytes(), self.secret.as_bytes()].concat())
    }
}

fn pair(places: Places, visit: &Visit, name: &str, secret: &str) -> Result<Option<Pair>, Reason> {
    if places.header
        && let Some(pair) = basic(&visit.authorization)?
    {
        return Ok(Some(pair));
    }
    if places.body { of_form(&visit.form, name, secret) } else { Ok(None) }
}

/// `Authorization: Basic` (RFC 7617 §2).
fn basic(authorization: &[u8]) -> Result<Option<Pair>, Reason> {
    let Some((scheme, rest)) = authorization.split_first_chunk::<6>() else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return Ok(None);
    }
    if rest.len() > MAX_CREDENTIALS {
        return Err(Reason::CredentialsMalformed);
    }
    let decoded = Zeroizing::new(STANDARD.decode(rest.trim_ascii()).map_err(|_| Reason::CredentialsMalformed)?);
    let pair = text(&decoded)?;
    let (name, secret) = pair.split_once(':').ok_or(Reason::CredentialsMalformed)?;
    Ok(Some(Pair { name: Zeroizing::new(name.into()), secret: Zeroizing::new(secret.into()) }))
}

fn of_form(form: &[u8], name: &str, secret: &str) -> Result<Option<Pair>, Reason> {
    let one = |wanted: &str| {
        let mut values = form_urlencoded::parse(form).filter(|(name, _)| name == wanted).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Reason::CredentialsMalformed),
            (value, None) => Ok(value.map(|value| Zeroizing::new(value.into_owned()))),
        }
    };
    match (one(name)?, one(secret)?) {
        (Some(name), Some(secret)) => {
            text(name.as_bytes())?;
            text(secret.as_bytes())?;
            Ok(Some(Pair { name, secret }))
        }
        (None, None) => Ok(None),
        _ => Err(Reason::CredentialsMalformed),
    }
}

/// Text without control characters, and of a length that somebody types.
fn text(bytes: &[u8]) -> Result<Zeroizing<String>, Reason> {
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::CredentialsMalformed)?;
    if text.len() > MAX_CREDENTIALS || text.chars().any(char::is_control) {
        return Err(Reason::CredentialsMalformed);
    }
    Ok(Zeroizing::new(text.to_owned()))
}
