//! `keybound.engine(config)` and its methods.

use std::sync::Arc;

use keybound::{Reason, Request, Step};
use mlua::{Lua, UserData, UserDataMethods, Value};

use crate::arguments::{self, Failure, Fields};
use crate::{Answer, json};

const FIELDS: [&str; 6] = ["authorization", "authorization_count", "query", "cert", "early_data", "now"];

struct Engine(Arc<keybound::Engine>);

impl UserData for Engine {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_function("decide", |lua, (this, request): (Value, Value)| Ok(Answer(decide(lua, &this, &request))));
        methods.add_function("upstream_headers", |lua, this: Value| Ok(Answer(upstream_headers(lua, &this))));
        methods.add_function("warnings", |lua, this: Value| Ok(Answer(warnings(lua, &this))));
    }
}

pub(crate) fn new(lua: &Lua, config: &Value) -> Result<Value, Failure> {
    let config = arguments::config("engine", config)?;
    let engine = keybound::Engine::new(&config).map_err(Failure::new)?;
    if engine.needs_http() {
        return Err(Failure::new(
            "auth_methods and proof_of_possession_dpop: logins and proofs are not supported: this binding takes no steps",
        ));
    }
    if engine.fetches() {
        return Err(Failure::new(
            "jwks: required for each issuer, and introspection is not supported: this binding makes no requests",
        ));
    }
    Ok(Value::UserData(lua.create_userdata(Engine(Arc::new(engine)))?))
}

fn decide(lua: &Lua, this: &Value, request: &Value) -> Result<Value, Failure> {
    let this = arguments::object::<Engine>("decide", "engine", this)?;
    let fields = Fields::of("decide", request, &FIELDS)?;
    let authorization = fields.string("authorization")?.map(|value| value.as_bytes());
    let query = fields.string("query")?.map(|value| value.as_bytes());
    let certificate = fields.certificate()?;
    let count = fields.count("authorization_count")?;
    let check = this.0.begin(&Request {
        now: fields.now()?,
        authorization: authorization.as_deref(),
        authorization_count: count.unwrap_or(u32::from(authorization.is_some())),
        query: query.as_deref().unwrap_or_default(),
        certificate: certificate.get(),
        early_data: fields.boolean("early_data")?,
        // Engines that need it take steps, and those are refused at load.
        http: None,
    });
    let decision = lua.create_table()?;
    let allowed = matches!(check.step(), Step::Allow(_) | Step::Report(_));
    decision.raw_set("allowed", allowed)?;
    match check.step() {
        Step::Allow(granted) => {
            let headers = lua.create_table()?;
            for (name, value) in granted.headers() {
                match value {
                    Some(value) => headers.raw_set(name, value)?,
                    None => headers.raw_set(name, false)?,
                }
            }
            decision.raw_set("step", "allow")?;
            decision.raw_set("reason", Reason::Allowed.code())?;
            decision.raw_set("claims", json::claims(lua, granted.claims())?)?;
            decision.raw_set("headers", headers)?;
            decision.raw_set("response_headers", lua.create_table_from(granted.response_headers())?)?;
        }
        Step::Report(response) => {
            // What the client sent under these names is still to be removed.
            let headers = lua.create_table()?;
            for name in this.0.upstream_header_names() {
                headers.raw_set(name, false)?;
            }
            decision.raw_set("step", "allow")?;
            decision.raw_set("reason", response.reason.code())?;
            decision.raw_set("reported", true)?;
            decision.raw_set("headers", headers)?;
            decision.raw_set("response_headers", lua.create_table()?)?;
        }
        Step::Respond(response) => {
            decision.raw_set("step", "respond")?;
            decision.raw_set("reason", response.reason.code())?;
            decision.raw_set("status", response.status)?;
            decision.raw_set("www_authenticate", response.www_authenticate.as_deref())?;
            decision.raw_set("body", response.body.as_ref())?;
            decision.raw_set("content_type", response.content_type)?;
        }
        Step::Fetch(_) | Step::Store(_) => {
            return Err(Failure::new("a step that this binding does not take"));
        }
    }
    Ok(Value::Table(decision))
}

fn upstream_headers(lua: &Lua, this: &Value) -> Result<Value, Failure> {
    let this = arguments::object::<Engine>("upstream_headers", "engine", this)?;
    Ok(Value::Table(lua.create_sequence_from(this.0.upstream_header_names())?))
}

fn warnings(lua: &Lua, this: &Value) -> Result<Value, Failure> {
    let this = arguments::object::<Engine>("warnings", "engine", this)?;
    Ok(Value::Table(lua.create_sequence_from(this.0.warnings())?))
}
