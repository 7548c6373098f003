//! `keybound.verifier(config)` and its method.

use keybound::Reason;
use mlua::{Lua, UserData, UserDataMethods, Value};

use crate::arguments::{self, Failure, Fields};
use crate::{Answer, json};

struct Verifier(keybound::Verifier);

impl UserData for Verifier {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_function("verify", |lua, (this, request): (Value, Value)| Ok(Answer(verify(lua, &this, &request))));
    }
}

pub(crate) fn new(lua: &Lua, config: &Value) -> Result<Value, Failure> {
    let config = arguments::config("verifier", config)?;
    let verifier = keybound::Verifier::new(&config).map_err(Failure::new)?;
    Ok(Value::UserData(lua.create_userdata(Verifier(verifier))?))
}

fn verify(lua: &Lua, this: &Value, request: &Value) -> Result<Value, Failure> {
    let this = arguments::object::<Verifier>("verify", "verifier", this)?;
    let fields = Fields::of("verify", request, &["token", "cert", "now"])?;
    let token = fields.required("token")?;
    let certificate = fields.certificate()?;
    let now = fields.now()?;
    let verified = this.0.verify(&token.as_bytes(), certificate.get(), now);
    let decision = lua.create_table()?;
    match verified {
        Ok(verified) => {
            decision.raw_set("allowed", true)?;
            decision.raw_set("reason", Reason::Allowed.code())?;
            decision.raw_set("claims", json::claims(lua, &verified.claims)?)?;
        }
        Err(reason) => {
            decision.raw_set("allowed", false)?;
            decision.raw_set("reason", reason.code())?;
        }
    }
    Ok(Value::Table(decision))
}
