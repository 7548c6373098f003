//! What Lua code passes in: checked here, so that misuse comes back as a message and nothing that is misspelt is ignored.

use std::borrow::Cow;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use keybound::cert::{self, ClientCertificate};
use mlua::{BorrowedBytes, LuaString, Table, UserDataRef, Value};

use crate::json;

/// Beyond this, a float does not tell neighbouring seconds apart.
const MAX_TIME: f64 = 9_007_199_254_740_992.0;

/// Why a call gives `nil` and a message.
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl fmt::Display) -> Failure {
        Failure(message.to_string())
    }

    fn argument(function: &str, what: impl fmt::Display) -> Failure {
        Failure(format!("bad argument #1 to '{function}' ({what})"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<mlua::Error> for Failure {
    fn from(e: mlua::Error) -> Failure {
        Failure(e.to_string())
    }
}

/// The type of a value, as Lua code knows it.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) | Value::Error(_) => "userdata",
        Value::Other(_) => "cdata",
        other => other.type_name(),
    }
}

/// Text of the caller's in a message: short and printable.
pub(crate) fn printable(text: &[u8]) -> String {
    text.iter().map(|c| char::from(*c)).filter(char::is_ascii_graphic).take(64).collect()
}

/// A string as the only argument.
pub(crate) fn string<'v>(function: &str, value: &'v Value) -> Result<&'v LuaString, Failure> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(Failure::argument(function, format_args!("string expected, got {}", type_of(other)))),
    }
}

/// A configuration, as JSON.
pub(crate) fn config(function: &str, value: &Value) -> Result<Vec<u8>, Failure> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Table(table) => Ok(json::encode(table)?.into_bytes()),
        other => {
            let what = format_args!("string of JSON or table expected, got {}", type_of(other));
            Err(Failure::argument(function, what))
        }
    }
}

/// The object of a method call. It is checked here: with a method of its own, mlua throws where the object is another.
pub(crate) fn object<T: 'static>(method: &str, kind: &str, value: &Value) -> Result<UserDataRef<T>, Failure> {
    let object = match value {
        Value::UserData(object) => object.borrow::<T>().ok(),
        _ => None,
    };
    object.ok_or_else(|| {
        let got = type_of(value);
        Failure(format!("calling '{method}' on bad self ({kind} expected, got {got}; call it with a colon)"))
    })
}

/// Refuses what would be read otherwise than Lua code reads it.
pub(crate) fn is_plain(table: &Table) -> Result<bool, Failure> {
    if let Some(meta) = table.metatable() {
        for name in ["__index", "__pairs"] {
            if !matches!(meta.raw_get::<Value>(name)?, Value::Nil) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The one table of a call with named arguments.
pub(crate) struct Fields<'v> {
    function: &'static str,
    table: &'v Table,
}

impl<'v> Fields<'v> {
    /// Takes a table that has only the fields of `names`: a misspelt one would leave a check out.
    pub(crate) fn of(function: &'static str, value: &'v Value, names: &[&str]) -> Result<Fields<'v>, Failure> {
        let Value::Table(table) = value else {
            return Err(Failure::argument(function, format_args!("table expected, got {}", type_of(value))));
        };
        if !is_plain(table)? {
            return Err(Failure::argument(function, "the table has a metatable with __index or __pairs"));
        }
        for pair in table.pairs::<Value, Value>() {
            let unknown = match pair?.0 {
                Value::String(name) => {
                    let name = name.as_bytes();
                    if names.iter().any(|known| known.as_bytes() == &*name) {
                        continue;
                    }
                    Cow::Owned(format!("field {}", printable(&name)))
                }
                other => Cow::Borrowed(type_of(&other)),
            };
            let names = names.join(", ");
            return Err(Failure::argument(function, format_args!("unknown {unknown}; the fields are {names}")));
        }
        Ok(Fields { function, table })
    }

    fn get(&self, name: &str) -> Result<Value, Failure> {
        Ok(self.table.raw_get(name)?)
    }

    fn wrong(&self, name: &str, expected: &str, value: &Value) -> Failure {
        // A number of the wrong size is not told by its type.
        let got = if matches!(value, Value::Integer(_) | Value::Number(_)) { "another" } else { type_of(value) };
        Failure::argument(self.function, format_args!("field {name}: {expected} expected, got {got}"))
    }

    /// A string that may be absent.
    pub(crate) fn string(&self, name: &str) -> Result<Option<LuaString>, Failure> {
        match self.get(name)? {
            Value::Nil => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(self.wrong(name, "string", &other)),
        }
    }

    /// A string that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<LuaString, Failure> {
        self.string(name)?.ok_or_else(|| self.wrong(name, "string", &Value::Nil))
    }

    /// A boolean, false where it is absent.
    pub(crate) fn boolean(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name)? {
            Value::Nil => Ok(false),
            Value::Boolean(value) => Ok(value),
            other => Err(self.wrong(name, "boolean", &other)),
        }
    }

    /// A whole number from 0 that may be absent.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u32>, Failure> {
        let value = self.get(name)?;
        let count = match &value {
            Value::Nil => return Ok(None),
            Value::Integer(n) => u32::try_from(*n).ok(),
            // In Lua 5.4, 1.0 is no integer.
            Value::Number(n) if n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(n) => Some(*n as u32),
            _ => None,
        };
        count.map(Some).ok_or_else(|| self.wrong(name, "whole number from 0 to 4294967295", &value))
    }

    /// `now`, or the time of the system's clock, in Unix seconds.
    pub(crate) fn now(&self) -> Result<i64, Failure> {
        let value = self.get("now")?;
        match value {
            Value::Nil => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_secs()).ok())
                .ok_or_else(|| Failure::new("the system's clock has no time since 1970")),
            Value::Integer(seconds) => Ok(seconds),
            Value::Number(seconds) if seconds.abs() <= MAX_TIME => Ok(seconds.floor() as i64),
            other => Err(self.wrong("now", "number of Unix seconds", &other)),
        }
    }

    /// `cert`, PEM or DER.
    pub(crate) fn certificate(&self) -> Result<Certificate, Failure> {
        Ok(Certificate(self.string("cert")?.map(|text| text.as_bytes())))
    }
}

/// The bytes of a client certificate, kept from Lua's collector.
pub(crate) struct Certificate(Option<BorrowedBytes>);

impl Certificate {
    pub(crate) fn get(&self) -> ClientCertificate<'_> {
        self.0.as_deref().map_or(ClientCertificate::Absent, cert::sniff)
    }
}
