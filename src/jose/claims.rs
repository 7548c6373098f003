//! Claims in three states: absent, valid, malformed. Malformed never counts as absent (RFC 7519 §4.1, CVE-2026-25537).

use crate::jose::json::{Object, Value};
use crate::reason::Reason;

/// Numbers beyond this are no dates; a float could not even tell neighbouring seconds apart.
const MAX_DATE: f64 = 9_007_199_254_740_992.0;

/// A NumericDate (RFC 7519 §2) in whole seconds, rounded down: early for an expiry.
pub(crate) fn date(claims: &Object<'_>, name: &str) -> Result<Option<i64>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Int(seconds)) => Ok(Some(*seconds)),
        Some(Value::Float(seconds)) if seconds.abs() <= MAX_DATE => Ok(Some(seconds.floor() as i64)),
        Some(_) => Err(Reason::ClaimsMalformed),
    }
}

/// A string.
pub(crate) fn text<'v>(claims: &'v Object<'_>, name: &str) -> Result<Option<&'v str>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text)),
        Some(_) => Err(Reason::ClaimsMalformed),
    }
}

/// One string, or an array of strings and of nothing else.
pub(crate) fn strings<'v>(value: &'v Value<'_>) -> Result<impl Iterator<Item = &'v str> + Clone, Reason> {
    let (one, many) = match value {
        Value::Str(one) => (Some(one.as_ref()), &[][..]),
        Value::Array(many) if many.iter().all(|item| item.as_str().is_some()) => (None, many.as_slice()),
        _ => return Err(Reason::ClaimsMalformed),
    };
    Ok(one.into_iter().chain(many.iter().filter_map(Value::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::json;

    #[test]
    fn rfc7519_4_1_4_a_a_date_is_a_number_and_nothing_else() {
        let date = |value: &str| {
            let text = format!(r#"{{"exp":{value}}}"#);
            date(&json::parse_object(text.as_bytes()).expect("JSON"), "exp")
        };
        assert_eq!(date("1"), Ok(Some(1)));
        assert_eq!(date("1.5"), Ok(Some(1)));
        assert_eq!(date("-1.5"), Ok(Some(-2)));
        assert_eq!(date("1e3"), Ok(Some(1000)));
        assert_eq!(date("9223372036854775807"), Ok(Some(i64::MAX)));
        for value in
            ["\"1\"", "true", "null", "[1]", "{}", "1e300", "-1e300", "9223372036854775808", "9007199254740994.0"]
        {
            assert_eq!(date(value), Err(Reason::ClaimsMalformed), "{value}");
        }
        assert_eq!(super::date(&Object::default(), "exp"), Ok(None));
    }

    #[test]
    fn an_array_with_anything_but_strings_is_malformed() {
        let strings = |value: &str| {
            let value = json::parse(value.as_bytes()).expect("JSON");
            strings(&value).map(|s| s.map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(strings(r#""a b""#), Ok(vec!["a b".into()]));
        assert_eq!(strings(r#"["a","b"]"#), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(strings("[]"), Ok(vec![]));
        for value in ["1", "null", r#"["a",1]"#, r#"["a",null]"#, r#"[["a"]]"#, "{}"] {
            assert_eq!(strings(value), Err(Reason::ClaimsMalformed), "{value}");
        }
    }
}
