//! Lua tables to JSON and JSON to Lua tables. `keybound.null` is JSON's `null`: the null pointer, as `cjson.null` and `ngx.null` are.

use std::borrow::Cow;
use std::ffi::c_void;
use std::fmt::{Display, Write as _};

use keybound::jose::json::{MAX_DEPTH, Object, Value as Json, parse_object};
use mlua::{Lua, LuaString, Table, Value};

use crate::arguments::{Failure, is_plain, printable, type_of};

/// Most values in a configuration: more than an accepted one can have, which is 64 keys and 25 options of 512 members each.
const MAX_VALUES: usize = 65_536;
/// Most bytes in the strings of a configuration: as much as one in JSON may have.
const MAX_BYTES: usize = 512 * 1024;

/// A configuration as JSON.
pub(crate) fn encode(table: &Table) -> Result<String, Failure> {
    let mut encoder = Encoder { path: String::new(), open: Vec::new(), values: 0, bytes: 0 };
    Ok(encoder.table(table)?.to_string())
}

struct Encoder {
    /// Where the value is, for messages.
    path: String,
    /// The tables around the value.
    open: Vec<*const c_void>,
    values: usize,
    bytes: usize,
}

impl Encoder {
    fn fail<T>(&self, what: impl Display) -> Result<T, Failure> {
        let path = if self.path.is_empty() { "the configuration" } else { &self.path };
        Err(Failure::new(format_args!("{path}: {what}")))
    }

    fn value(&mut self, value: &Value) -> Result<Json<'static>, Failure> {
        match value {
            Value::Boolean(value) => Ok(Json::Bool(*value)),
            Value::Integer(number) => Ok(Json::Int(*number)),
            Value::Number(number) if number.is_finite() => Ok(Json::Float(*number)),
            Value::Number(_) => self.fail("a number that is not finite"),
            Value::String(text) => Ok(Json::Str(self.text(text)?.into())),
            Value::Table(table) => self.table(table),
            Value::LightUserData(pointer) if pointer.0.is_null() => Ok(Json::Null),
            other => self.fail(format_args!("a {} cannot be JSON", type_of(other))),
        }
    }

    fn text(&mut self, text: &LuaString) -> Result<String, Failure> {
        let bytes = text.as_bytes();
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_BYTES {
            return self.fail(format_args!("the configuration has more than {MAX_BYTES} bytes"));
        }
        match str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => self.fail("a string that is not UTF-8"),
        }
    }

    fn table(&mut self, table: &Table) -> Result<Json<'static>, Failure> {
        let pointer = table.to_pointer();
        if self.open.contains(&pointer) {
            return self.fail("the table contains itself");
        }
        if self.open.len() >= MAX_DEPTH {
            return self.fail(format_args!("more than {MAX_DEPTH} tables inside each other"));
        }
        if !is_plain(table)? {
            return self.fail("the table has a metatable with __index or __pairs");
        }
        self.open.push(pointer);
        let mut items: Vec<(i64, Json<'static>)> = Vec::new();
        let mut members: Vec<(Cow<'static, str>, Json<'static>)> = Vec::new();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.values = self.values.saturating_add(1);
            if self.values > MAX_VALUES {
                return self.fail(format_args!("the configuration has more than {MAX_VALUES} values"));
            }
            let outside = self.path.len();
            match &key {
                Value::String(name) => {
                    let name = self.text(name)?;
                    let dot = if outside == 0 { "" } else { "." };
                    // Writing to a string cannot fail.
                    let _ = write!(self.path, "{dot}{}", printable(name.as_bytes()));
                    members.push((name.into(), self.value(&value)?));
                }
                Value::Integer(index) => {
                    let _ = write!(self.path, "[{index}]");
                    items.push((*index, self.value(&value)?));
                }
                other => return self.fail(format_args!("a key is a {}, not a string or 1 to n", type_of(other))),
            }
            self.path.truncate(outside);
        }
        self.open.pop();
        if !items.is_empty() && !members.is_empty() {
            return self.fail("the keys are neither all strings nor 1 to n");
        }
        if items.is_empty() && (!members.is_empty() || self.open.is_empty()) {
            // Lua's order changes from run to run; what a message names first must not.
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            return Ok(Json::Object(members.into_iter().collect::<Object<'_>>()));
        }
        items.sort_by_key(|(index, _)| *index);
        if !items.iter().zip(1..).all(|((index, _), expected)| *index == expected) {
            return self.fail("the keys are numbers, but not 1 to n");
        }
        Ok(Json::Array(items.into_iter().map(|(_, item)| item).collect()))
    }
}

/// The claims of an allowed token as a table.
pub(crate) fn claims(lua: &Lua, text: &[u8]) -> Result<Value, Failure> {
    // They were read before to decide, by the same parser.
    let claims = parse_object(text).map_err(|e| Failure::new(format_args!("the claims cannot be read: {e}")))?;
    Ok(object(lua, &claims)?)
}

fn object(lua: &Lua, object: &Object<'_>) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    for (name, value) in object.iter() {
        table.raw_set(name, decode(lua, value)?)?;
    }
    Ok(Value::Table(table))
}

/// The parser has bounded the depth.
fn decode(lua: &Lua, value: &Json<'_>) -> mlua::Result<Value> {
    match value {
        Json::Null => Ok(Value::NULL),
        Json::Bool(value) => Ok(Value::Boolean(*value)),
        Json::Int(number) => Ok(Value::Integer(*number)),
        Json::Float(number) => Ok(Value::Number(*number)),
        Json::Str(text) => Ok(Value::String(lua.create_string(text.as_bytes())?)),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (item, index) in items.iter().zip(1..=i64::MAX) {
                table.raw_set(index, decode(lua, item)?)?;
            }
            Ok(Value::Table(table))
        }
        Json::Object(members) => object(lua, members),
    }
}
