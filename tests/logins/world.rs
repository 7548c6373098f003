//! The world around a gateway with logins: an authorization server, a store with a clock, browsers. All of it is a script: no network, so
//! every order of events can be had.

use std::collections::HashMap;
use std::sync::Arc;

use keybound::cert::ClientCertificate;
use keybound::engine::Http;
use keybound::steps::{Endpoint, Fetch, FetchAnswer, Outcome, Store, StoreAnswer, StoreOperation};
use keybound::{Check, Engine, Reason, Request, Step};
use serde_json::{Value, json};

use crate::common::{AUDIENCE, CLIENT_A, ISSUER, NOW, b64, header, mint_raw, named_jwk, x5t};

pub const HOST: &str = "api.test";
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";
pub const SESSION: &str = "__Host-session";
pub const AUTHORIZE: &str = "https://as.test/authorize";
pub const END_SESSION: &str = "https://as.test/logout";
/// With a client certificate (`mtls_endpoint_aliases`), and without.
pub const TOKEN: [&str; 2] = ["https://as.test:8443/token", "https://as.test/token"];

pub type Pairs = Vec<(String, String)>;
/// How something is made another.
pub type Change = fn(&mut Value);

pub fn pairs(query: &[u8]) -> Pairs {
    form_urlencoded::parse(query).into_owned().collect()
}

pub fn get<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    let mut values = pairs.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let value = values.next();
    assert!(values.next().is_none(), "{name} came twice");
    value
}

pub fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// What an endpoint does instead of its work.
#[derive(Clone)]
pub enum Fault {
    Fails(Outcome),
    Answers(u16, Value),
}

struct Code {
    code: String,
    asked: Pairs,
    used: bool,
}

struct Refresh {
    token: String,
    family: u64,
    user: &'static str,
    used: bool,
}

/// Sessions in the store.
pub fn in_store(c: &mut Value) {
    c["session_storage"] = "store".into();
}

/// Each place where sessions can be.
pub const STORAGES: [Change; 2] = [|_| {}, in_store];

/// The authorization server, with the clients `gateway` (by its certificate, or by a secret) and `robot`.
pub struct Server {
    pub metadata: Value,
    pub user: &'static str,
    /// Of access tokens, in seconds; `expires_in` says it, too.
    pub life: i64,
    pub refreshes: bool,
    /// Whether a refresh token is good once.
    pub rotates: bool,
    pub scope: &'static str,
    /// What is changed in the answers of the token endpoint, in ID tokens and in access tokens.
    pub answer: Change,
    pub id_token: Change,
    pub access_token: Change,
    /// Makes the text of an ID token of its claims in another way.
    pub id_text: Option<fn(&Value) -> String>,
    pub faults: Vec<(Endpoint, Fault)>,
    pub keys: Vec<&'static str>,
    /// What came, and in which order.
    pub revoked: Vec<(String, String)>,
    pub pushed: Vec<Pairs>,
    /// Tokens and codes that were given out: none of them is for a log or a store.
    pub secrets: Vec<String>,
    redeemed: Vec<(String, String)>,
    codes: Vec<Code>,
    refresh: Vec<Refresh>,
    dead: Vec<u64>,
    serial: u64,
}

impl Server {
    fn new() -> Server {
        let metadata = json!({
            "issuer": ISSUER, "jwks_uri": "https://as.test/jwks", "authorization_endpoint": AUTHORIZE, "token_endpoint": TOKEN[1],
            "revocation_endpoint": "https://as.test/revoke", "introspection_endpoint": "https://as.test/introspect",
            "pushed_authorization_request_endpoint": "https://as.test/par", "end_session_endpoint": END_SESSION,
            "authorization_response_iss_parameter_supported": true, "mtls_endpoint_aliases": {"token_endpoint": TOKEN[0]},
        });
        Server {
            metadata,
            user: "alice",
            life: 300,
            refreshes: true,
            rotates: true,
            scope: "read",
            answer: |_| {},
            id_token: |_| {},
            access_token: |_| {},
            id_text: None,
            faults: Vec::new(),
            keys: vec!["ES256"],
            revoked: Vec::new(),
            pushed: Vec::new(),
            secrets: Vec::new(),
            redeemed: Vec::new(),
            codes: Vec::new(),
            refresh: Vec::new(),
            dead: Vec::new(),
            serial: 0,
        }
    }

    fn next(&mut self, what: &str) -> String {
        self.serial += 1;
        let text = format!("{what}-{}-of-the-server", self.serial);
        self.secrets.push(text.clone());
        text
    }

    /// Logs the user in who came with this authorization request: the target that the browser is sent back to.
    pub fn authorize(&mut self, location: &str) -> String {
        let (endpoint, asked) = location.split_once('?').expect("a query");
        assert_eq!(endpoint, AUTHORIZE);
        let mut asked = pairs(asked.as_bytes());
        if let Some(uri) = get(&asked, "request_uri") {
            let place: usize = uri.strip_prefix("urn:par:").expect("ours").parse().expect("a number");
            assert_eq!(asked.len(), 2, "of a pushed request, only the client and the URI are sent");
            asked = self.pushed[place].clone();
        }
        let code = self.next("code");
        let state = get(&asked, "state").expect("state").to_owned();
        let back = get(&asked, "redirect_uri").expect("redirect_uri").strip_prefix("https://api.test").expect("ours");
        let target = format!("{back}?{}", query(&[("code", &code), ("state", &state), ("iss", ISSUER)]));
        self.codes.push(Code { code, asked, used: false });
        target
    }

    fn access(&mut self, now: i64, client: &str, bound_to: &[u8]) -> String {
        self.serial += 1;
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": self.user, "client_id": client, "jti": self.serial.to_string(), "iat": now,
            "exp": now + self.life, "scope": self.scope, "cnf": {"x5t#S256": x5t(bound_to)},
        });
        (self.access_token)(&mut claims);
        let token = match claims["opaque"].as_str() {
            Some(opaque) => opaque.to_owned(),
            None => mint_raw("ES256", &header("ES256").to_string(), &claims.to_string()),
        };
        self.secrets.push(token.clone());
        token
    }

    fn issue(&mut self, now: i64, family: Option<u64>, nonce: Option<&str>) -> Value {
        // Bound to the gateway, as it is by RFC 8705 §3.
        let access = self.access(now, "gateway", b"the gateway's certificate");
        let mut claims = json!({
            "iss": ISSUER, "aud": "gateway", "sub": self.user, "iat": now, "exp": now + 300,
            "at_hash": b64(&ring::digest::digest(&ring::digest::SHA256, access.as_bytes()).as_ref()[..16]),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        (self.id_token)(&mut claims);
        let id_token = match self.id_text {
            Some(make) => make(&claims),
            None => mint_raw("ES256", r#"{"alg":"ES256","kid":"ES256"}"#, &claims.to_string()),
        };
        self.secrets.push(id_token.clone());
        let mut answer = json!({
            "access_token": access, "token_type": "Bearer", "expires_in": self.life, "id_token": id_token, "scope": self.scope,
        });
        if self.refreshes {
            let token = self.next("refresh");
            self.serial += 1;
            let family = family.unwrap_or(self.serial);
            self.refresh.push(Refresh { token: token.clone(), family, user: self.user, used: false });
            answer["refresh_token"] = token.into();
        }
        (self.answer)(&mut answer);
        answer
    }

    fn token(&mut self, now: i64, fetch: &Fetch, form: &Pairs) -> (u16, Value) {
        let refused = |error: &str| (400, json!({"error": error, "error_description": "of alice"}));
        let basic = fetch.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.as_str());
        let client = match basic {
            // robot:robot-secret
            Some("Basic cm9ib3Q6cm9ib3Qtc2VjcmV0") => "robot",
            // gateway:gateway-secret
            Some("Basic Z2F0ZXdheTpnYXRld2F5LXNlY3JldA==") => "gateway",
            Some(_) => return (401, json!({"error": "invalid_client"})),
            None if get(form, "client_id") == Some("gateway") => "gateway",
            None => return (401, json!({"error": "invalid_client"})),
        };
        match get(form, "grant_type") {
            Some("authorization_code") => {
                let (code, verifier) =
                    (get(form, "code").expect("code"), get(form, "code_verifier").expect("verifier"));
                let sent = (code.to_owned(), verifier.to_owned());
                assert!(!self.redeemed.contains(&sent), "a code is sent once");
                self.redeemed.push(sent);
                let Some(known) = self.codes.iter_mut().find(|known| known.code == code) else {
                    return refused("invalid_grant");
                };
                // RFC 7636 §4.6, RFC 6749 §4.1.3
                let fits = get(&known.asked, "code_challenge") == Some(&x5t(verifier.as_bytes()))
                    && get(&known.asked, "code_challenge_method") == Some("S256")
                    && get(&known.asked, "redirect_uri") == get(form, "redirect_uri");
                if std::mem::replace(&mut known.used, true) || !fits {
                    return refused("invalid_grant");
                }
                let nonce = get(&known.asked, "nonce").map(str::to_owned);
                (200, self.issue(now, None, nonce.as_deref()))
            }
            Some("refresh_token") => {
                let token = get(form, "refresh_token").expect("refresh_token");
                let Some(known) = self.refresh.iter_mut().find(|known| known.token == token) else {
                    return refused("invalid_grant");
                };
                let (family, user) = (known.family, known.user);
                if !self.rotates {
                    let token = known.token.clone();
                    let mut answer = self.issue(now, Some(family), None);
                    answer["refresh_token"] = token.into();
                    return (200, answer);
                }
                if std::mem::replace(&mut known.used, true) {
                    // RFC 9700 §4.14.2: used twice, by whomever.
                    self.dead.push(family);
                }
                if self.dead.contains(&family) {
                    return refused("invalid_grant");
                }
                self.user = user;
                (200, self.issue(now, Some(family), None))
            }
            Some("password") => match (get(form, "username"), get(form, "password")) {
                (Some("alice"), Some("alice-password")) => (200, self.issue(now, None, None)),
                _ => refused("invalid_grant"),
            },
            Some("client_credentials") => {
                let token = self.access(now, client, b"the gateway's certificate");
                let mut answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": self.life});
                (self.answer)(&mut answer);
                (200, answer)
            }
            _ => refused("unsupported_grant_type"),
        }
    }

    fn answer_of(&mut self, now: i64, fetch: &Fetch) -> (u16, Value) {
        let form = pairs(&fetch.body);
        match fetch.endpoint {
            Endpoint::Metadata => (200, self.metadata.clone()),
            Endpoint::Jwks => (200, json!({"keys": self.keys.iter().map(|alg| named_jwk(alg)).collect::<Vec<_>>()})),
            Endpoint::Token => self.token(now, fetch, &form),
            Endpoint::Par => {
                let uri = format!("urn:par:{}", self.pushed.len());
                self.pushed.push(form);
                (201, json!({"request_uri": uri, "expires_in": 60}))
            }
            Endpoint::Revocation => {
                let text = |name: &str| get(&form, name).unwrap_or_default().to_owned();
                self.revoked.push((text("token_type_hint"), text("token")));
                (200, json!({}))
            }
            Endpoint::Introspection => {
                let token = get(&form, "token").unwrap_or_default();
                let active = token.starts_with("opaque") && self.secrets.iter().any(|secret| secret == token);
                let said = json!({
                    "active": true, "iss": ISSUER, "aud": AUDIENCE, "sub": self.user, "scope": self.scope, "exp": now + self.life,
                    "client_id": "gateway", "cnf": {"x5t#S256": x5t(CLIENT_A)},
                });
                (200, if active { said } else { json!({"active": false}) })
            }
        }
    }
}

/// Everything outside of the gateway.
pub struct World {
    /// The clock, in milliseconds
    pub ms: i64,
    store: HashMap<[u8; 32], (i64, Vec<u8>)>,
    pub store_fails: fn(&Store) -> bool,
    /// Whether the store has no room for what it may forget.
    pub is_full: bool,
    pub fetched: Vec<Fetch>,
    pub operations: Vec<Store>,
    pub server: Server,
}

impl World {
    pub fn new() -> World {
        World {
            ms: NOW * 1000,
            store: HashMap::new(),
            store_fails: |_| false,
            is_full: false,
            fetched: Vec::new(),
            operations: Vec::new(),
            server: Server::new(),
        }
    }

    pub fn now(&self) -> i64 {
        self.ms / 1000
    }

    pub fn pass(&mut self, seconds: i64) {
        self.ms += seconds * 1000;
    }

    pub fn fault(&mut self, endpoint: Endpoint, fault: Fault) {
        self.server.faults.insert(0, (endpoint, fault));
    }

    /// Takes the whole server down.
    pub fn take_down(&mut self) {
        for endpoint in Endpoint::ALL {
            self.fault(endpoint, Fault::Fails(Outcome::Connect));
        }
    }

    pub fn heal(&mut self) {
        self.server.faults.clear();
        self.store_fails = |_| false;
    }

    pub fn break_store(&mut self) {
        self.store_fails = |_| true;
    }

    /// The forms that an endpoint was sent since it was looked at last.
    pub fn sent(&mut self, endpoint: Endpoint) -> Vec<Pairs> {
        let all = std::mem::take(&mut self.fetched);
        let (sent, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|fetch| fetch.endpoint == endpoint);
        self.fetched = rest;
        sent.iter().map(|fetch| pairs(&fetch.body)).collect()
    }

    /// Whether something was asked of the server since it was looked at last.
    pub fn is_quiet(&mut self) -> bool {
        std::mem::take(&mut self.fetched).is_empty()
    }

    pub fn entries(&self) -> usize {
        self.store.values().filter(|(end, _)| *end > self.ms).count()
    }

    /// Puts the value of each entry where the other's was.
    pub fn swap_entries(&mut self, is_wanted: impl Fn(&[u8]) -> bool) {
        let keys: Vec<[u8; 32]> = self.store.iter().filter(|(_, (_, v))| is_wanted(v)).map(|(k, _)| *k).collect();
        let [a, b] = keys[..] else { panic!("{} entries", keys.len()) };
        let (one, other) = (self.store[&a].clone(), self.store[&b].clone());
        self.store.insert(a, other);
        self.store.insert(b, one);
    }

    /// Takes one step of a check; false when it is decided.
    pub fn step(&mut self, check: &mut Check) -> bool {
        match check.step() {
            Step::Allow(_) | Step::Report(_) | Step::Respond(_) => return false,
            Step::Fetch(fetch) => {
                let fetch = fetch.clone();
                self.answer(&fetch, check);
            }
            Step::Store(store) => {
                let store = store.clone();
                self.ms += i64::from(store.delay_ms);
                self.operate(&store, check);
            }
        }
        true
    }

    pub fn finish(&mut self, check: &mut Check) {
        for _ in 0..1000 {
            if !self.step(check) {
                return;
            }
        }
        panic!("too many steps")
    }

    /// Steps until the next one is one of these.
    pub fn run_to(&mut self, check: &mut Check, is_wanted: impl Fn(&Step<'_>) -> bool) {
        while !is_wanted(&check.step()) {
            assert!(self.step(check), "decided: {:?}", check.reason());
        }
    }

    fn answer(&mut self, fetch: &Fetch, check: &mut Check) {
        assert_eq!(fetch.once, fetch.endpoint == Endpoint::Token, "what is good once is sent once");
        self.fetched.push(fetch.clone());
        let now = self.now();
        let fault = self.server.faults.iter().find(|(endpoint, _)| *endpoint == fetch.endpoint).map(|(_, f)| f.clone());
        let (status, body) = match fault {
            Some(Fault::Fails(outcome)) => return check.fetched(now, FetchAnswer::failed(outcome)).expect("a fetch"),
            Some(Fault::Answers(status, body)) => (status, body),
            None => self.server.answer_of(now, fetch),
        };
        let good = FetchAnswer { elapsed_us: 1000, ..FetchAnswer::failed(Outcome::Answered) };
        let body = body.to_string();
        let answer = FetchAnswer { status, content_type: b"application/json", body: body.as_bytes(), ..good };
        check.fetched(now, answer).expect("a fetch");
    }

    fn operate(&mut self, store: &Store, check: &mut Check) {
        assert!(store.ttl >= 1);
        for secret in &self.server.secrets {
            let secret = secret.as_bytes();
            assert!(!store.value.windows(secret.len()).any(|w| w == secret), "a token in the store");
        }
        self.operations.push(store.clone());
        let now = self.now();
        if (self.store_fails)(store) {
            return check.stored(now, StoreAnswer::Failed).expect("a store");
        }
        let ms = self.ms;
        self.store.retain(|_, (end, _)| *end > ms);
        let end = self.ms + i64::from(store.ttl) * 1000;
        let answer = match store.operation {
            StoreOperation::Add if self.store.contains_key(&store.key) => StoreAnswer::Exists,
            StoreOperation::Put if self.is_full && store.is_cache => StoreAnswer::Done,
            StoreOperation::Add | StoreOperation::Put => {
                self.store.insert(store.key, (end, store.value.clone()));
                StoreAnswer::Done
            }
            StoreOperation::Get => match self.store.get(&store.key) {
                Some((_, value)) => StoreAnswer::Found(value),
                None => StoreAnswer::Absent,
            },
            StoreOperation::Delete => {
                self.store.remove(&store.key);
                StoreAnswer::Done
            }
        };
        check.stored(now, answer).expect("a store");
    }
}

/// One request.
#[derive(Clone)]
pub struct Ask {
    pub method: &'static str,
    pub host: String,
    pub target: String,
    pub accept: &'static str,
    pub origin: &'static str,
    pub site: &'static str,
    pub mode: &'static str,
    pub dest: &'static str,
    pub authorization: Option<String>,
    pub proofs: Vec<String>,
    pub refresh_token: String,
    pub form: String,
    pub early_data: bool,
}

/// What a browser sends when somebody opens a page.
pub fn page(target: &str) -> Ask {
    Ask {
        method: "GET",
        host: HOST.into(),
        target: target.into(),
        accept: "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
        origin: "",
        site: "none",
        mode: "navigate",
        dest: "document",
        authorization: None,
        proofs: Vec::new(),
        refresh_token: String::new(),
        form: String::new(),
        early_data: false,
    }
}

/// What a script of the page sends.
pub fn api(target: &str) -> Ask {
    Ask { accept: "application/json", site: "same-origin", mode: "cors", dest: "empty", ..page(target) }
}

/// What a program sends that is no browser.
pub fn program(target: &str) -> Ask {
    Ask { accept: "*/*", site: "", mode: "", dest: "", ..page(target) }
}

/// What came of a request, as its client and the upstream see it.
pub struct Seen {
    pub reason: Reason,
    /// 0: it went on
    pub status: u16,
    pub challenge: Option<String>,
    pub retry_after: Option<u32>,
    pub content_type: &'static str,
    pub body: String,
    /// Of the answer, or of an allowed request for its client
    pub headers: Pairs,
    /// Of an allowed request: what the upstream gets
    pub upstream: Vec<(String, Option<String>)>,
    pub claims: Value,
    pub detail: String,
}

impl Seen {
    pub fn of(check: &Check, world: &World) -> Seen {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut seen = Seen {
            reason: check.reason().expect("decided"),
            status: 0,
            challenge: None,
            retry_after: None,
            content_type: "",
            body: String::new(),
            headers: Vec::new(),
            upstream: Vec::new(),
            claims: Value::Null,
            detail: check.detail().unwrap_or_default().to_owned(),
        };
        match check.step() {
            Step::Allow(granted) => {
                assert_eq!(seen.reason, Reason::Allowed);
                seen.headers = granted.response_headers().map(|(name, value)| own(name, value)).collect();
                seen.upstream = granted.headers().map(|(n, value)| (n.to_owned(), value.map(str::to_owned))).collect();
                seen.claims = serde_json::from_slice(granted.claims()).expect("claims");
            }
            Step::Respond(response) => {
                assert_eq!(response.reason, seen.reason);
                seen.status = response.status;
                seen.challenge = response.www_authenticate.as_deref().map(str::to_owned);
                seen.retry_after = response.retry_after;
                seen.content_type = response.content_type;
                seen.body = response.body.to_string();
                seen.headers = response.headers.iter().map(|(name, value)| own(name, value)).collect();
            }
            other => panic!("{other:?}"),
        }
        for secret in &world.server.secrets {
            assert!(!seen.detail.contains(secret), "{}", seen.detail);
            // A program is told where a browser could log out, which takes the ID token along.
            assert!(!seen.body.contains(secret) || seen.reason == Reason::LoggedOut, "{}", seen.body);
        }
        seen
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        get(&self.headers, name)
    }

    pub fn cookies(&self) -> Vec<&str> {
        self.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect()
    }

    pub fn location(&self) -> &str {
        self.header("location").expect("a location")
    }

    /// What the upstream gets in a header: `Some(None)` is a removed one, `None` one that goes on as it came.
    pub fn upstream(&self, name: &str) -> Option<Option<&str>> {
        let mut all = self.upstream.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_deref());
        let value = all.next();
        assert!(all.next().is_none(), "{name} is changed twice");
        value
    }

    /// The access token that the upstream gets.
    pub fn bearer(&self) -> &str {
        assert_eq!(self.reason, Reason::Allowed, "{}", self.detail);
        let value = self.upstream("authorization").flatten().expect("a token");
        value.strip_prefix("Bearer ").expect("Bearer")
    }

    pub fn is_page(&self) -> bool {
        self.content_type.starts_with("text/html")
    }
}

/// A browser: what it keeps, and its certificate.
#[derive(Clone)]
pub struct Browser {
    pub jar: Pairs,
    pub certificate: Option<&'static [u8]>,
}

impl Browser {
    pub fn new() -> Browser {
        Browser { jar: Vec::new(), certificate: Some(CLIENT_A) }
    }

    pub fn with(certificate: Option<&'static [u8]>) -> Browser {
        Browser { certificate, ..Browser::new() }
    }

    /// The same cookies elsewhere.
    pub fn stolen(&self, certificate: Option<&'static [u8]>) -> Browser {
        Browser { jar: self.jar.clone(), certificate }
    }

    pub fn header(&self) -> String {
        self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub fn names(&self) -> Vec<&str> {
        self.jar.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        get(&self.jar, name)
    }

    pub fn has_session(&self) -> bool {
        self.cookie(SESSION).is_some()
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.jar.retain(|(own, _)| own != name);
        self.jar.push((name.to_owned(), value.to_owned()));
    }

    /// Keeps what a `Set-Cookie` says, as RFC 6265 §5 and the prefix `__Host-` have it.
    fn keep(&mut self, cookie: &str) {
        assert!(cookie.len() <= 4096 && cookie.bytes().all(|c| (0x20..0x7f).contains(&c)), "{cookie}");
        let mut parts = cookie.split("; ");
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a pair");
        let attributes: Vec<&str> = parts.collect();
        for attribute in ["Path=/", "Secure", "HttpOnly"] {
            assert!(attributes.contains(&attribute), "{cookie}");
        }
        assert!(!attributes.iter().any(|attribute| attribute.starts_with("Domain")), "{cookie}");
        self.jar.retain(|(own, _)| own != name);
        if !attributes.contains(&"Expires=Thu, 01 Jan 1970 00:00:00 GMT") {
            self.jar.push((name.to_owned(), value.to_owned()));
        }
    }

    pub fn begin(&self, world: &World, engine: &Arc<Engine>, ask: &Ask) -> Check {
        let (cookie, proof) = (self.header(), ask.proofs.join(", "));
        let http = Http {
            scheme: b"https",
            dpop: proof.as_bytes(),
            dpop_count: ask.proofs.len() as u32,
            method: ask.method.as_bytes(),
            host: ask.host.as_bytes(),
            target: ask.target.as_bytes(),
            cookie: cookie.as_bytes(),
            accept: ask.accept.as_bytes(),
            origin: ask.origin.as_bytes(),
            fetch_site: ask.site.as_bytes(),
            fetch_mode: ask.mode.as_bytes(),
            fetch_dest: ask.dest.as_bytes(),
            refresh_token: ask.refresh_token.as_bytes(),
            form: ask.form.as_bytes(),
            ..Http::default()
        };
        engine.begin(&Request {
            now: world.now(),
            authorization: ask.authorization.as_ref().map(String::as_bytes),
            authorization_count: u32::from(ask.authorization.is_some()),
            query: ask.target.split_once('?').map_or("", |(_, query)| query).as_bytes(),
            certificate: self.certificate.map_or(ClientCertificate::Absent, ClientCertificate::Der),
            early_data: ask.early_data,
            http: Some(&http),
        })
    }

    /// What came of a request that was begun, whose cookies are kept.
    pub fn end(&mut self, world: &mut World, check: &mut Check) -> Seen {
        world.finish(check);
        let seen = Seen::of(check, world);
        for cookie in seen.cookies() {
            self.keep(cookie);
        }
        seen
    }

    pub fn ask(&mut self, world: &mut World, engine: &Arc<Engine>, ask: Ask) -> Seen {
        let mut check = self.begin(world, engine, &ask);
        self.end(world, &mut check)
    }

    /// Opens a page that needs a login, and logs in: the target to come back to.
    pub fn start(&mut self, world: &mut World, engine: &Arc<Engine>, target: &str) -> String {
        let seen = self.ask(world, engine, page(target));
        assert_eq!(seen.reason, Reason::LoginStarted, "{}", seen.detail);
        world.server.authorize(seen.location())
    }

    /// Comes back from the authorization server, which is another site.
    pub fn come_back(&mut self, world: &mut World, engine: &Arc<Engine>, target: &str) -> Seen {
        self.ask(world, engine, Ask { site: "cross-site", ..page(target) })
    }

    /// Logs in.
    pub fn login(&mut self, world: &mut World, engine: &Arc<Engine>) {
        let target = self.start(world, engine, "/");
        let seen = self.come_back(world, engine, &target);
        assert_eq!(seen.reason, Reason::LoginCompleted, "{}", seen.detail);
        assert!(self.has_session());
    }

    /// Calls the API: the reason.
    pub fn call(&mut self, world: &mut World, engine: &Arc<Engine>) -> Reason {
        self.ask(world, engine, api("/data")).reason
    }
}

/// Sessions, bearer tokens and logins, bound to certificates.
pub fn options() -> Value {
    json!({
        "issuer": ISSUER, "audience_required": [AUDIENCE], "auth_methods": ["session", "bearer", "authorization_code"],
        "client_id": "gateway", "tls_client_auth_cert_id": "gateway",
        "client_certificates": {"gateway": {"certificate": "/gateway.crt", "private_key": "/gateway.key"}},
        "session_bind_certificate": true, "session_secret": SECRET, "store_secret": "store secret of 32 characters...",
        "redirect_uri": "https://api.test/callback", "scopes": ["openid", "read"],
        "logout_uri_suffix": "/logout",
    })
}

pub fn engine(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    let mut options = options();
    change(&mut options);
    match Engine::new(options.to_string().as_bytes()) {
        Ok(engine) => Arc::new(engine),
        Err(e) => panic!("{e}"),
    }
}

/// A counter of the engine.
pub fn counter(engine: &Engine, sample: &str) -> u64 {
    let counters = engine.describe_counters();
    let place = counters.iter().position(|counter| counter.sample == sample).expect("a counter");
    engine.counters().nth(place).expect("a value")
}
