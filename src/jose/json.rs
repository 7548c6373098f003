//! Strict JSON: one value, no duplicate members, no NUL, bounded in depth and in members. Strings without escapes are borrowed.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Levels of arrays and objects; deeper input is an attack on the stack, not a token.
pub const MAX_DEPTH: usize = 16;
/// Members and array elements in one document, all levels together; each costs an allocation or a comparison.
pub const MAX_MEMBERS: usize = 512;

const TWICE: &str = "a member occurs twice";
const TOO_MANY: &str = "too many members";
const TOO_DEEP: &str = "nested too deeply";
const NUL: &str = "a string holds NUL";
const OWN_MESSAGES: [&str; 4] = [TWICE, TOO_MANY, TOO_DEEP, NUL];

/// A JSON value that borrows from its text where it can.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number without fraction or exponent that fits
    Int(i64),
    /// Any other number
    Float(f64),
    /// A string, escapes resolved
    Str(Cow<'a, str>),
    /// An array
    Array(Vec<Value<'a>>),
    /// An object
    Object(Object<'a>),
}

/// The members of a JSON object, in the order of the text; no name occurs twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> FromIterator<(Cow<'a, str>, Value<'a>)> for Object<'a> {
    fn from_iter<I: IntoIterator<Item = (Cow<'a, str>, Value<'a>)>>(members: I) -> Self {
        Object(members.into_iter().collect())
    }
}

impl<'a> Object<'a> {
    /// The value of a member, compared by code point (RFC 7515 §5.3).
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(n, v)| (n.as_ref(), v))
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Follows `path` through nested objects; a step through anything else is absent.
    pub fn at<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value<'a>> {
        let (last, parents) = path.split_last()?;
        let mut object = self;
        for name in parents {
            object = object.get(name.as_ref())?.as_object()?;
        }
        object.get(last.as_ref())
    }
}

impl<'a> Value<'a> {
    /// A string.
    pub(crate) fn text(text: &'a str) -> Value<'a> {
        Value::Str(Cow::Borrowed(text))
    }

    /// An object with these members.
    pub(crate) fn object(members: impl IntoIterator<Item = (&'static str, Value<'a>)>) -> Value<'a> {
        Value::Object(members.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// What the value is, for messages: never the value itself.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

/// The text is not JSON as this module takes it. The message names the place, never the content.
#[derive(Debug)]
pub struct JsonError(String);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonError {
    fn of(e: &serde_json::Error, otherwise: &str) -> JsonError {
        // The parser's messages may quote the input; ours, and line and column, do not.
        let message = e.to_string();
        let own = OWN_MESSAGES.iter().find(|own| message.starts_with(**own));
        JsonError(format!("{} at line {} column {}", own.unwrap_or(&otherwise), e.line(), e.column()))
    }
}

/// Parses a document that must be one object and nothing else.
pub fn parse_object(text: &[u8]) -> Result<Object<'_>, JsonError> {
    match parse(text)? {
        Value::Object(object) => Ok(object),
        other => Err(JsonError(format!("expected an object, found {}", other.kind()))),
    }
}

/// Parses a document that must be one value and nothing else.
pub fn parse(text: &[u8]) -> Result<Value<'_>, JsonError> {
    // Checked at once, and not string by string.
    let text = std::str::from_utf8(text).map_err(|_| JsonError("not UTF-8".into()))?;
    let members = Cell::new(0);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let strict = Strict { depth: 0, members: &members };
    let value = strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|e| JsonError::of(&e, "not valid JSON"))
}

/// The members of a document that must be one object, each value still as text: for documents whose parts have limits of their own.
pub(crate) fn members(text: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, JsonError> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members: Self::Value = Vec::new();
            while let Some(name) = map.next_key_seed(Name)? {
                if members.iter().any(|(n, _)| *n == name) {
                    return Err(A::Error::custom(TWICE));
                }
                if members.len() >= MAX_MEMBERS {
                    return Err(A::Error::custom(TOO_MANY));
                }
                members.push((name, map.next_value()?));
            }
            Ok(members)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let members = deserializer.deserialize_map(Members).and_then(|members| deserializer.end().map(|()| members));
    members.map_err(|e| JsonError::of(&e, "expected an object"))
}

/// A document of one value and nothing else, still as text.
pub(crate) fn raw(text: String) -> Result<Box<RawValue>, JsonError> {
    RawValue::from_string(text).map_err(|e| JsonError::of(&e, "not valid JSON"))
}

#[derive(Clone, Copy)]
struct Strict<'c> {
    depth: usize,
    members: &'c Cell<usize>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Strict { depth, ..self })
    }

    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let members = self.members.get().saturating_add(1);
        self.members.set(members);
        if members > MAX_MEMBERS {
            return Err(E::custom(TOO_MANY));
        }
        Ok(())
    }
}

fn no_nul<E: serde::de::Error>(s: &str) -> Result<(), E> {
    // Only an escape can bring a NUL in, so only strings with escapes come here.
    if s.as_bytes().contains(&0) {
        return Err(E::custom(NUL));
    }
    Ok(())
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value<'de>, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(n).map_or(Value::Float(n as f64), Value::Int))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(n))
    }

    fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Str(Cow::Borrowed(s)))
    }

    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<Value<'de>, E> {
        no_nul(s)?;
        Ok(Value::Str(Cow::Owned(s.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            self.count()?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        // Claims have a dozen members, what is nested in them one or two.
        let expected = if self.depth == 0 { 16 } else { 2 };
        let mut members: Vec<(Cow<'de, str>, Value<'de>)> = Vec::with_capacity(expected);
        while let Some(name) = map.next_key_seed(Name)? {
            self.count()?;
            // Linear while short; a long object is checked once at its end.
            if members.len() < 32 && members.iter().any(|(n, _)| *n == name) {
                return Err(A::Error::custom(TWICE));
            }
            members.push((name, map.next_value_seed(inner)?));
        }
        if members.len() > 32 {
            let mut names: Vec<&str> = members.iter().map(|(n, _)| n.as_ref()).collect();
            names.sort_unstable();
            if names.windows(2).any(|w| matches!(w, [a, b] if a == b)) {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(Object(members)))
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(s))
    }

    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<Self::Value, E> {
        no_nul(s)?;
        Ok(Cow::Owned(s.to_owned()))
    }
}

/// Compact JSON.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl serde::Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(n) => serializer.serialize_i64(*n),
            Value::Float(n) => serializer.serialize_f64(*n),
            Value::Str(s) => serializer.serialize_str(s),
            Value::Array(items) => serializer.collect_seq(items),
            Value::Object(object) => serializer.collect_map(object.iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn rfc7515_4_a_duplicate_members_are_refused_at_every_level() {
        assert!(parse(br#"{"a":1,"b":{"a":1}}"#).is_ok());
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"[{"a":1,"\u0061":2}]"#] {
            assert!(refused(text).starts_with("a member occurs twice"), "{text}");
        }
    }

    #[test]
    fn duplicates_are_found_in_long_objects_too() {
        for twin in [0, 20, 40, 98] {
            let mut names: Vec<String> = (0..99).map(|i| format!("\"n{i}\":0")).collect();
            assert!(parse(format!("{{{}}}", names.join(",")).as_bytes()).is_ok());
            names.push(format!("\"n{twin}\":0"));
            assert!(parse(format!("{{{}}}", names.join(",")).as_bytes()).is_err(), "{twin}");
        }
    }

    #[test]
    fn rfc7515_5_2_c_only_whole_valid_utf8_json_parses() {
        for text in [
            "",
            "{",
            "{}x",
            "{} {}",
            "\u{feff}{}",
            "{'a':1}",
            "{\"a\":NaN}",
            "{\"a\":01}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":1,}",
            "{\"a\":1e400}",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(parse(b" {\"a\":\"\\u00e9\\ud83d\\ude00\"}\n").is_ok());
    }

    #[test]
    fn an_embedded_nul_is_refused_in_names_and_values() {
        assert!(parse(br#"{"a":"\u0001"}"#).is_ok());
        assert!(parse(br#"{"a":"\u0000"}"#).is_err());
        assert!(parse(br#"{"a\u0000":1}"#).is_err());
    }

    #[test]
    fn depth_and_members_are_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        let list = |n: usize| format!("[{}]", vec!["0"; n].join(","));
        assert!(parse(list(MAX_MEMBERS).as_bytes()).is_ok());
        assert!(parse(list(MAX_MEMBERS + 1).as_bytes()).is_err());
    }

    #[test]
    fn an_error_never_quotes_the_text() {
        for text in ["{\"secret\":secret}", "\"secret", "{\"secret\":1,\"secret\":2}", "secret"] {
            assert!(!refused(text).contains("secret"), "{}", refused(text));
        }
    }

    #[test]
    fn a_path_goes_through_objects_only() {
        let object = parse_object(br#"{"realm_access":{"roles":["a"]},"s":"x"}"#).expect("valid");
        assert!(object.at(&["realm_access", "roles"]).is_some());
        assert!(object.at(&["s", "roles"]).is_none());
        assert!(object.at::<&str>(&[]).is_none());
    }
}
