//! Options that a host has by its own means, besides a configuration: nginx's directives.

use std::borrow::Cow;

use super::config::{self, ConfigError, OPTIONS};
use crate::jose::json::Value;

/// One option, as text.
pub struct Setting<'a> {
    /// The option's name
    pub name: &'a str,
    /// Its value: of an array one element, of a number its digits, of a boolean `true` or `false`, of anything else the string
    pub value: &'a str,
    /// Whether it holds only where the configuration does not have the option. Otherwise it takes the place of what is there.
    pub is_default: bool,
}

impl Setting<'_> {
    /// The value, by the type that the option has.
    fn typed(&self) -> Result<Value<'_>, ConfigError> {
        let kind = OPTIONS.iter().find(|option| option.name == self.name).map_or("", |option| option.kind);
        let value = if kind.starts_with("boolean") {
            self.value.parse().ok().map(Value::Bool)
        } else if kind.starts_with("number") {
            self.value.parse().ok().map(Value::Int)
        } else {
            Some(Value::Str(Cow::Borrowed(self.value)))
        };
        value.ok_or_else(|| ConfigError::new(self.name, format_args!("must be a {kind}")))
    }

    fn is_array(&self) -> bool {
        OPTIONS.iter().any(|option| option.name == self.name && option.kind.starts_with("array"))
    }
}

/// The configuration with these options in it.
///
/// # Errors
/// The configuration is not a JSON object; a value is not of its option's type; an option that is no array is set twice. Whether the
/// options are valid is not looked at.
pub(crate) fn apply(config: &[u8], settings: &[Setting<'_>]) -> Result<Vec<u8>, ConfigError> {
    let members = config::members(config)?;
    let has = |name: &str| members.iter().any(|(own, _)| own == name);
    let mut set: Vec<(&str, Value<'_>)> = Vec::new();
    for setting in settings.iter().filter(|setting| !(setting.is_default && has(setting.name))) {
        let value = setting.typed()?;
        match (set.iter_mut().find(|(name, _)| *name == setting.name), setting.is_array()) {
            (Some((_, Value::Array(values))), true) => values.push(value),
            (Some(_), _) => return Err(ConfigError::new(setting.name, "is set twice")),
            (None, true) => set.push((setting.name, Value::Array(vec![value]))),
            (None, false) => set.push((setting.name, value)),
        }
    }
    let kept = members.iter().filter(|(name, _)| !set.iter().any(|(own, _)| own == name));
    let kept = kept.map(|(name, value)| format!("{}:{value}", Value::Str(name.clone())));
    let all: Vec<String> =
        kept.chain(set.iter().map(|(name, value)| format!("{}:{value}", Value::Str(Cow::Borrowed(name))))).collect();
    Ok(format!("{{{}}}", all.join(",")).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(config: &str, settings: &[(&str, &str, bool)]) -> Result<String, String> {
        let settings: Vec<Setting<'_>> =
            settings.iter().map(|&(name, value, is_default)| Setting { name, value, is_default }).collect();
        match apply(config.as_bytes(), &settings) {
            Ok(text) => Ok(String::from_utf8(text).expect("UTF-8")),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn a_setting_takes_the_place_of_the_option_and_the_rest_stays_as_it_is() {
        let config = r#"{"realm": "a", "jwks": {"keys": [1.50, "\u00e9"]}}"#;
        assert_eq!(applied(config, &[]).as_deref(), Ok(r#"{"realm":"a","jwks":{"keys": [1.50, "\u00e9"]}}"#));
        assert_eq!(
            applied(config, &[("realm", "b\"c", false)]).as_deref(),
            Ok(r#"{"jwks":{"keys": [1.50, "\u00e9"]},"realm":"b\"c"}"#)
        );
    }

    #[test]
    fn a_default_holds_only_where_the_configuration_is_silent() {
        assert_eq!(applied(r#"{"realm":"a"}"#, &[("realm", "b", true)]).as_deref(), Ok(r#"{"realm":"a"}"#));
        assert_eq!(applied("{}", &[("realm", "b", true)]).as_deref(), Ok(r#"{"realm":"b"}"#));
    }

    #[test]
    fn a_setting_has_the_type_of_its_option() {
        let settings = [
            ("scopes_required", "a b", false),
            ("scopes_required", "c", false),
            ("report_only", "true", false),
            ("leeway", "7", false),
        ];
        let config = r#"{"scopes_required":["old"]}"#;
        assert_eq!(
            applied(config, &settings).as_deref(),
            Ok(r#"{"scopes_required":["a b","c"],"report_only":true,"leeway":7}"#)
        );
        assert!(applied("{}", &[("report_only", "on", false)]).is_err_and(|e| e.starts_with("report_only: must be a")));
        assert!(applied("{}", &[("leeway", "x", false)]).is_err_and(|e| e.starts_with("leeway: must be a number")));
        assert_eq!(
            applied("{}", &[("realm", "a", false), ("realm", "b", false)]),
            Err("realm: is set twice".to_owned())
        );
        assert!(applied("[]", &[]).is_err());
    }

    #[test]
    fn a_name_sets_no_other_option() {
        assert_eq!(
            applied("{}", &[("a\":true,\"report_only", "true", false)]).as_deref(),
            Ok(r#"{"a\":true,\"report_only":"true"}"#)
        );
    }
}
