//! Grants for which the request brings the credentials: password, client credentials, refresh token (RFC 6749 §4.3, §4.4, §6); and the
//! gateway's own token for the upstream.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::config::{Logins, Places};
use super::sessions::{AFTERGLOW, ends_session};
use super::visit::Visit;
use super::{Holder, Passage};
use crate::client::auth::{ClientAuth, Method as AuthMethod};
use crate::client::shared::{self, Domain, Keep};
use crate::client::token_response::TokenError;
use crate::client::{Server, TokenSet};
use crate::crypto;
use crate::engine::cache::{Grant, Refused};
use crate::engine::{Engine, Tally};
use crate::reason::Reason;
use crate::session::{Method, Session};
use crate::steps::{Host, Refusal};

/// Longest credentials, in bytes.
const MAX_CREDENTIALS: usize = 4096;
/// How long credentials that the server refused are refused without asking, in seconds: a flood of them does not reach it.
const REFUSED: i64 = 5;
/// How long nobody asks again where the server did not answer, in seconds: not each request is to wait for it.
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
struct Wanted<'l> {
    method: Method,
    form: Vec<(String, String)>,
    arguments: &'l [(String, String)],
    /// The client that asks, where that is not the gateway
    auth: Option<ClientAuth>,
    /// What tells who asks from all others: whoever holds it may read what is kept. Empty for the gateway itself.
    credentials: Zeroizing<Vec<u8>>,
}

/// Under which names the answer to a request is kept.
struct Names {
    /// In the store
    hash: [u8; 32],
    /// Here: who reads this memory does not learn a password by trying some
    place: [u8; 32],
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
        let server = self.first_server()?;
        // A client that calls itself the gateway would be believed for the gateway's certificate.
        if wanted.auth.as_ref().is_some_and(|auth| server.client_id() == Some(auth.client_id.as_str())) {
            return Err(Refusal::new(Reason::CredentialsRefused, "client_id is the gateway's own"));
        }
        let names = self.names(server, &wanted);
        let (mut session, mut was_kept) = self.granted(host, logins, server, &wanted, &names).await?;
        // The token is bound to the gateway, if it is bound.
        let holder = Holder::Gateway(None);
        let mut passed = self.judge_token(host, session.tokens.access_token.as_bytes(), visit, holder, tally).await;
        if let Err(refusal) = &passed
            && ends_session(refusal.reason)
        {
            self.forget_grant(host, server, &names).await;
            if was_kept {
                // It was revoked meanwhile, and the credentials are still good for another.
                (session, was_kept) = self.granted(host, logins, server, &wanted, &names).await?;
                passed = self.judge_token(host, session.tokens.access_token.as_bytes(), visit, holder, tally).await;
            }
        }
        let own = session.tokens.refresh_token.as_ref().filter(|_| wanted.method == Method::RefreshToken);
        let new = own.filter(|new| new.as_bytes() != visit.refresh_token.as_slice()).cloned();
        let passed = passed.map_err(|refusal| self.with_refresh_token(refusal, new.as_ref()))?;
        let mut tokens = session.tokens.clone();
        let has_it_alone = match wanted.method {
            // It is the client's, and the gateway could not use it.
            Method::ClientCredentials => false,
            // Of two sessions that spend it, the server takes one for a thief's (RFC 9700 §4.14.2).
            Method::Password => !was_kept,
            _ => true,
        };
        if !has_it_alone {
            tokens.refresh_token = None;
        }
        Ok(Some(Passage {
            method: wanted.method,
            passed,
            tokens,
            subject: session.subject.clone(),
            refresh_token: new,
            is_proved: false,
        }))
    }

    /// The gateway's own access token for the upstream (RFC 6749 §4.4).
    pub(super) async fn own_token(
        &self,
        host: &Host,
        logins: &Logins,
        arguments: &[(String, String)],
    ) -> Result<Zeroizing<String>, Refusal> {
        let server = self.first_server()?;
        let wanted = Wanted {
            method: Method::ClientCredentials,
            form: vec![("grant_type".to_owned(), "client_credentials".to_owned())],
            arguments,
            auth: None,
            credentials: Zeroizing::default(),
        };
        let (session, _) = self.granted(host, logins, server, &wanted, &self.names(server, &wanted)).await?;
        Ok(session.tokens.access_token.clone())
    }

    /// No two requests that could be answered differently have the same.
    fn names(&self, server: &Server, wanted: &Wanted<'_>) -> Names {
        let text = |pairs: &[(String, String)]| {
            Zeroizing::new(form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
        };
        let client = server.token_client();
        let parts = [
            server.trust.as_slice(),
            client.as_bytes(),
            wanted.method.name().as_bytes(),
            text(&wanted.form).as_bytes(),
            text(wanted.arguments).as_bytes(),
            &wanted.credentials,
        ]
        .map(<[u8]>::to_vec)
        .map(Zeroizing::new);
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
        let hash = shared::hash(Domain::Grant, &parts);
        Names { hash, place: crypto::hmac_sha256(&self.salt, &hash) }
    }

    /// The tokens for credentials: remembered here, by another worker, or fetched; and whether they were kept.
    async fn granted(
        &self,
        host: &Host,
        logins: &Logins,
        server: &Server,
        wanted: &Wanted<'_>,
        names: &Names,
    ) -> Result<(Arc<Session>, bool), Refusal> {
        let now = host.now();
        let kept = self.memory.try_lock().ok().and_then(|mut memory| memory.grants.get(&names.place).cloned());
        if let Some(grant) = kept.filter(|grant| grant.is_fresh(now)) {
            return Ok((grant.session, true));
        }
        self.check_refused(&names.place, now)?;
        let stored = server.shared.read_of(host, &wanted.credentials, names.hash).await;
        let stored = stored.and_then(|(_, text)| Session::parse(&Zeroizing::new(text)));
        if let Some(grant) = stored.map(|session| wanted.keep(session)).filter(|grant| grant.is_fresh(host.now())) {
            self.keep_grant(names, &grant, host.now());
            return Ok((grant.session, true));
        }
        let set = server.token(host, wanted.form.clone(), wanted.arguments, wanted.auth.as_ref(), names.place).await;
        let TokenSet { mut tokens, id_token, is_shared } =
            set.map_err(|error| self.no_grant(error, wanted, names, host.now()))?;
        let subject = match &id_token {
            Some(token) => {
                let expected = self.expected(logins, server, &tokens.access_token, None, None);
                Some(server.check_id_token(host, token.as_bytes(), &expected).await?.subject)
            }
            None => None,
        };
        tokens.id_token = id_token;
        let now = host.now();
        let session = Session {
            id: [0; 32],
            method: wanted.method,
            tokens,
            subject,
            thumbprint: None,
            created: now,
            renewed: now,
            used: now,
        };
        let text = session.to_json();
        let grant = wanted.keep(session);
        let ttl = grant.until.saturating_sub(now);
        // Credentials can be sent again. A refresh token may be used up, and who sends it again is taken for a thief (RFC 9700 §4.14.2).
        let keep = if wanted.method == Method::RefreshToken { Keep::Always } else { Keep::IfThereIsRoom };
        server.shared.write_of(host, &wanted.credentials, names.hash, now, &text, (ttl, keep)).await;
        self.keep_grant(names, &grant, now);
        Ok((grant.session, is_shared))
    }

    fn keep_grant(&self, names: &Names, grant: &Grant, now: i64) {
        if let Ok(mut memory) = self.memory.try_lock() {
            memory.grants.insert(&names.place, grant.clone(), now);
        }
    }

    /// Forgets a token that is no good, so that the next request gets another.
    async fn forget_grant(&self, host: &Host, server: &Server, names: &Names) {
        if let Ok(mut memory) = self.memory.try_lock() {
            memory.grants.remove(&names.place);
        }
        server.shared.delete(host, names.hash).await;
    }

    fn no_grant(&self, error: TokenError, wanted: &Wanted<'_>, names: &Names, now: i64) -> Refusal {
        let is_own = wanted.credentials.is_empty();
        let (reason, what, seconds) = match error {
            // Of the client's own credentials the server says it so.
            TokenError::Client(detail) if wanted.auth.is_some() => (Reason::CredentialsRefused, detail, REFUSED),
            TokenError::Client(detail) => (Reason::ClientRefused, detail, PAUSE),
            TokenError::Refused(code) if is_own => (Reason::ServerUnavailable, code.unwrap_or_default(), PAUSE),
            TokenError::Refused(code) => (Reason::CredentialsRefused, code.unwrap_or_default(), REFUSED),
            TokenError::Unavailable(detail) => (Reason::ServerUnavailable, detail, PAUSE),
        };
        if let Ok(mut memory) = self.memory.try_lock() {
            let until = now.saturating_add(seconds);
            memory.refused.insert(&names.place, Refused { reason, since: now, until }, now);
        }
        let whose = if is_own { "the gateway's own token" } else { wanted.method.name() };
        Refusal::new(reason, format!("{whose}: {what}"))
    }
}

impl Wanted<'_> {
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
fn wanted<'l>(logins: &'l Logins, visit: &Visit) -> Result<Option<Wanted<'l>>, Reason> {
    let arguments = logins.token_arguments.as_slice();
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
            arguments,
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
        return Ok(Some(Wanted { method: Method::Password, form, arguments, auth: None, credentials: pair.bytes() }));
    }
    if let Some(places) = logins.client_credentials
        && let Some(pair) = pair(places, visit, "client_id", "client_secret")?
    {
        let mut form = vec![grant_type("client_credentials")];
        form.extend(scope(&["openid", "offline_access"]));
        let credentials = pair.bytes();
        let method = AuthMethod::SecretBasic(Arc::new(pair.secret));
        let auth = Some(ClientAuth { client_id: String::clone(&pair.name), method });
        return Ok(Some(Wanted { method: Method::ClientCredentials, form, arguments, auth, credentials }));
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
        // A form of the application's own.
        _ => Ok(None),
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
