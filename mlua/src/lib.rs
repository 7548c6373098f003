//! keybound for Lua: `require "keybound"` in LuaJIT or Lua 5.4.
//!
//! Every function gives its result, or `nil` and a message; bad input never throws. Only the decision of a table with
//! `allowed = true` or `step = "allow"` lets a request through; with `reported = true` it would be refused, and passes by `report_only`.

#[cfg(not(any(feature = "luajit", feature = "lua54")))]
compile_error!("keybound-mlua is built for one Lua: enable the feature `luajit` or `lua54`");

mod arguments;
mod engine;
mod json;
mod verifier;

use keybound::cert::{self, Thumbprint};
use keybound::jose::jwk;
use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};

use arguments::Failure;

/// Lua's convention for results: a value, or `nil` and a message.
struct Answer(Result<Value, Failure>);

impl IntoLuaMulti for Answer {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        match self.0 {
            Ok(value) => value.into_lua_multi(lua),
            Err(failure) => (Value::Nil, failure.to_string()).into_lua_multi(lua),
        }
    }
}

#[mlua::lua_module(name = "keybound")]
fn open(lua: &Lua) -> mlua::Result<Table> {
    let module = lua.create_table()?;
    module.raw_set("version", keybound::VERSION)?;
    module.raw_set("null", Value::NULL)?;
    module.raw_set("thumbprint", lua.create_function(|lua, cert: Value| Ok(Answer(thumbprint(lua, &cert))))?)?;
    module.raw_set("jwk_thumbprint", lua.create_function(|lua, jwk: Value| Ok(Answer(jwk_thumbprint(lua, &jwk))))?)?;
    module.raw_set("verifier", lua.create_function(|lua, config: Value| Ok(Answer(verifier::new(lua, &config))))?)?;
    module.raw_set("engine", lua.create_function(|lua, config: Value| Ok(Answer(engine::new(lua, &config))))?)?;
    Ok(module)
}

fn thumbprint(lua: &Lua, certificate: &Value) -> Result<Value, Failure> {
    let certificate = arguments::string("thumbprint", certificate)?;
    let certificate = certificate.as_bytes();
    let certificate = cert::sniff(&certificate);
    let der = certificate.der().map_err(Failure::new)?;
    // Both forms that are found carry the certificate.
    let der = der.ok_or_else(|| Failure::new("there is no certificate"))?;
    Ok(Value::String(lua.create_string(Thumbprint::of_der(&der).to_base64url())?))
}

fn jwk_thumbprint(lua: &Lua, key: &Value) -> Result<Value, Failure> {
    let key = arguments::string("jwk_thumbprint", key)?;
    let thumbprint = jwk::thumbprint(&key.as_bytes()).map_err(Failure::new)?;
    Ok(Value::String(lua.create_string(thumbprint)?))
}
