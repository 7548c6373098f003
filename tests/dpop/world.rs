//! Clients with keys, proofs of any shape, and the world around a gateway that takes them: an authorization server that is asked about tokens,
//! and a store with a clock. All of it is a script.

use std::collections::HashMap;
use std::sync::Arc;

use keybound::cert::ClientCertificate;
use keybound::engine::Http;
use keybound::steps::{Fetch, FetchAnswer, Outcome, Store, StoreAnswer, StoreOperation};
use keybound::{Check, Engine, Reason, Request, Step};
use serde_json::{Value, json};

use crate::common::{AUDIENCE, ISSUER, NOW, config};

pub use crate::common::clients::{Key, ORIGIN, proof_claims};

pub const SECRET: &str = "store secret of 32 characters...";
pub const NONCE_SECRET: &str = "nonce secret of 32 characters...";
pub const OTHER_SECRET: &str = "another secret of 32 characters.";
pub const INTROSPECTION: &str = "https://as.test/introspect";
pub const OPAQUE: &str = "opaque-token/+==";

/// One request.
#[derive(Clone)]
pub struct Ask {
    pub now: i64,
    pub authorization: String,
    pub authorizations: u32,
    pub proofs: Vec<String>,
    pub method: &'static str,
    pub target: String,
    pub host: &'static str,
    pub scheme: &'static str,
    pub peer: &'static str,
    /// `X-Forwarded-Proto`, `-Host`, `-Port`, `-Prefix`
    pub forwarded: [&'static str; 4],
    pub certificate: Option<&'static [u8]>,
    pub early_data: bool,
    pub id: &'static str,
    pub spent: Vec<u8>,
}

/// `GET https://api.test/data`, without credentials.
pub fn bare() -> Ask {
    Ask {
        now: NOW,
        authorization: String::new(),
        authorizations: 0,
        proofs: Vec::new(),
        method: "GET",
        target: "/data".into(),
        host: "api.test",
        scheme: "https",
        peer: "192.0.2.1",
        forwarded: [""; 4],
        certificate: None,
        early_data: false,
        id: "",
        spent: Vec::new(),
    }
}

/// Likewise with this `Authorization`.
pub fn authorized(authorization: impl Into<String>) -> Ask {
    Ask { authorization: authorization.into(), authorizations: 1, ..bare() }
}

/// Likewise with a token and its proof.
pub fn proved(token: &str, proof: impl Into<String>) -> Ask {
    Ask { proofs: vec![proof.into()], ..authorized(format!("DPoP {token}")) }
}

/// What came of a request.
pub struct Seen {
    pub reason: Reason,
    /// 0: it went on
    pub status: u16,
    /// Whether it would have been refused, had the engine not only reported
    pub is_reported: bool,
    pub challenge: String,
    pub detail: String,
    pub body: String,
    /// For the client
    pub headers: Vec<(String, String)>,
    /// For the upstream
    pub upstream: Vec<(String, Option<String>)>,
    pub claims: Value,
    /// What names its proof
    pub spent: Option<Vec<u8>>,
    /// What was asked of the store and of the server, in this order.
    pub stored: Vec<Store>,
    pub fetched: Vec<Fetch>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} came twice");
        value
    }

    /// The steps that note the use of a proof.
    pub fn spent(&self) -> impl Iterator<Item = &Store> {
        // Nothing else is locked: there are no logins, and keys are configured.
        self.stored.iter().filter(|store| store.operation == StoreOperation::Add)
    }

    /// `Some(None)` is a removed header, `None` one that goes on as it came.
    pub fn upstream(&self, name: &str) -> Option<Option<&str>> {
        let mut all = self.upstream.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_deref());
        let value = all.next();
        assert!(all.next().is_none(), "{name} is changed twice");
        value
    }
}

/// What the store does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Works,
    /// It has no room.
    IsFull,
    IsDown,
}

/// Everything outside of the gateway.
pub struct World {
    store: HashMap<[u8; 32], (i64, Vec<u8>)>,
    pub condition: Condition,
    /// What introspection says
    pub said: Value,
}

impl World {
    pub fn new() -> World {
        World { store: HashMap::new(), condition: Condition::Works, said: Value::Null }
    }

    /// With a server that says this of a token, besides what makes it a good one.
    pub fn saying(said: Value) -> World {
        let mut all = json!({
            "active": true, "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "scope": "read",
        });
        for (name, value) in said.as_object().expect("an object") {
            all[name] = value.clone();
        }
        World { said: all, ..World::new() }
    }

    pub fn begin(engine: &Arc<Engine>, ask: &Ask) -> Check {
        let proof = ask.proofs.join(", ");
        let [proto, host, port, prefix] = ask.forwarded.map(str::as_bytes);
        let http = Http {
            method: ask.method.as_bytes(),
            host: ask.host.as_bytes(),
            target: ask.target.as_bytes(),
            scheme: ask.scheme.as_bytes(),
            peer: ask.peer.as_bytes(),
            dpop: proof.as_bytes(),
            dpop_count: ask.proofs.len() as u32,
            forwarded_proto: proto,
            forwarded_host: host,
            forwarded_port: port,
            forwarded_prefix: prefix,
            id: ask.id.as_bytes(),
            spent: &ask.spent,
            ..Http::default()
        };
        engine.begin(&Request {
            now: ask.now,
            authorization: (ask.authorizations > 0).then_some(ask.authorization.as_bytes()),
            authorization_count: ask.authorizations,
            query: ask.target.split_once('?').map_or("", |(_, query)| query).as_bytes(),
            certificate: ask.certificate.map_or(ClientCertificate::Absent, ClientCertificate::Der),
            early_data: ask.early_data,
            http: Some(&http),
        })
    }

    pub fn ask(&mut self, engine: &Arc<Engine>, ask: &Ask) -> Seen {
        let mut check = World::begin(engine, ask);
        self.finish(&mut check, ask.now)
    }

    /// The reason alone.
    pub fn decide(&mut self, engine: &Arc<Engine>, ask: &Ask) -> Reason {
        self.ask(engine, ask).reason
    }

    pub fn finish(&mut self, check: &mut Check, now: i64) -> Seen {
        let (mut stored, mut fetched) = (Vec::new(), Vec::new());
        loop {
            match check.step() {
                Step::Fetch(fetch) => {
                    let fetch = fetch.clone();
                    let body = self.said.to_string();
                    let good = FetchAnswer { elapsed_us: 1, ..FetchAnswer::failed(Outcome::Answered) };
                    let (content_type, body) = (&b"application/json"[..], body.as_bytes());
                    check.fetched(now, FetchAnswer { status: 200, content_type, body, ..good }).expect("a fetch");
                    fetched.push(fetch);
                }
                Step::Store(store) => {
                    let store = store.clone();
                    self.operate(check, &store, now);
                    stored.push(store);
                }
                Step::Allow(_) | Step::Report(_) | Step::Respond(_) => break,
            }
        }
        seen(check, stored, fetched)
    }

    fn operate(&mut self, check: &mut Check, store: &Store, now: i64) {
        assert!(store.ttl >= 1);
        self.store.retain(|_, (end, _)| *end > now);
        let is_there = self.store.contains_key(&store.key);
        let answer = match (self.condition, store.operation) {
            (Condition::IsDown, _) => StoreAnswer::Failed,
            (_, StoreOperation::Add) if is_there => StoreAnswer::Exists,
            (Condition::IsFull, StoreOperation::Add | StoreOperation::Put) => StoreAnswer::Failed,
            (Condition::Works, StoreOperation::Add | StoreOperation::Put) => {
                self.store.insert(store.key, (now + i64::from(store.ttl), store.value.clone()));
                StoreAnswer::Done
            }
            (_, StoreOperation::Get) => match self.store.get(&store.key) {
                Some((_, value)) => StoreAnswer::Found(value),
                None => StoreAnswer::Absent,
            },
            (_, StoreOperation::Delete) => {
                self.store.remove(&store.key);
                StoreAnswer::Done
            }
        };
        check.stored(now, answer).expect("a store");
    }
}

fn seen(check: &Check, stored: Vec<Store>, fetched: Vec<Fetch>) -> Seen {
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut seen = Seen {
        reason: check.reason().expect("decided"),
        status: 0,
        is_reported: false,
        challenge: String::new(),
        detail: check.detail().unwrap_or_default().to_owned(),
        body: String::new(),
        headers: Vec::new(),
        upstream: Vec::new(),
        claims: Value::Null,
        spent: None,
        stored,
        fetched,
    };
    match check.step() {
        Step::Allow(granted) => {
            assert_eq!(seen.reason, Reason::Allowed);
            seen.headers = granted.response_headers().map(|(name, value)| own(name, value)).collect();
            seen.upstream = granted.headers().map(|(n, value)| (n.to_owned(), value.map(str::to_owned))).collect();
            seen.claims = serde_json::from_slice(granted.claims()).expect("claims");
            seen.spent = granted.spent().map(<[u8]>::to_vec);
        }
        Step::Respond(response) => {
            assert_eq!(response.reason, seen.reason);
            seen.status = response.status;
            seen.challenge = response.www_authenticate.as_deref().unwrap_or_default().to_owned();
            seen.body = response.body.to_string();
            seen.headers = response.headers.iter().map(|(name, value)| own(name, value)).collect();
        }
        Step::Report(_) => seen.is_reported = true,
        other => panic!("{other:?}"),
    }
    seen
}

/// A gateway that demands proofs, changed by `change`.
pub fn engine(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    let config = config(|c| {
        c["proof_of_possession_dpop"] = "strict".into();
        c["public_origin"] = ORIGIN.into();
        c["store_secret"] = SECRET.into();
        change(c);
    });
    match Engine::new(&config) {
        Ok(engine) => Arc::new(engine),
        Err(e) => panic!("{e}"),
    }
}

/// Likewise with nonces.
pub fn engine_with_nonces(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine(|c| {
        c["dpop_use_nonce"] = true.into();
        c["dpop_nonce_secret"] = NONCE_SECRET.into();
        change(c);
    })
}

/// Likewise one that asks about all tokens.
pub fn introspecting(change: impl FnOnce(&mut Value)) -> Arc<Engine> {
    engine(|c| {
        c.as_object_mut().expect("an object").remove("jwks");
        c["auth_methods"] = json!(["introspection"]);
        c["introspection_endpoint"] = INTROSPECTION.into();
        c["client_id"] = "gateway".into();
        c["client_secret"] = "secret".into();
        change(c);
    })
}

/// What a request gets from an engine that demands proofs.
pub fn decide(ask: &Ask) -> Reason {
    World::new().decide(&engine(|_| {}), ask)
}
