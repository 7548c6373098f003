//! The configuration: JSON in, checked settings out. Names are Kong's wherever the meaning is the same.

use std::fmt;

use serde_json::value::RawValue;

use crate::binding::Mode;
use crate::crypto::Algorithm;
use crate::jose::json::{self, Value};
use crate::jose::jwk::{JwkSet, SkippedKey};
use crate::jose::jws::{HeaderMemo, Type};
use crate::token::jwt::{Issuer, Policy};
use crate::token::rule::{Rule, Words};

/// Largest configuration, in bytes: a JWK set of the largest size and the rest.
const MAX_CONFIG: usize = 512 * 1024;
/// Largest `leeway`, in seconds: clocks that differ more are broken.
const MAX_LEEWAY: i64 = 60;
/// Largest `token_cache_entries`: with tokens of 1 KiB this is more than `token_cache_bytes` can hold by default.
const MAX_CACHE_ENTRIES: i64 = 1_000_000;
/// Largest `token_cache_bytes`: 1 GiB for one worker.
const MAX_CACHE_BYTES: i64 = 1 << 30;
/// Most headers that claims are written to.
const MAX_UPSTREAM_HEADERS: usize = 32;

/// One option, for the parser, its messages and `docs/configuration.md`.
pub struct OptionDoc {
    /// The name in the JSON
    pub name: &'static str,
    /// The JSON type, with unit or valid values
    pub kind: &'static str,
    /// What holds where the option is absent
    pub default: &'static str,
    /// What it does
    pub meaning: &'static str,
}

macro_rules! options {
    ($($name:literal $kind:literal $default:literal $meaning:literal)*) => {
        /// Every option.
        pub const OPTIONS: &[OptionDoc] = &[$(OptionDoc {
            name: $name, kind: $kind, default: $default, meaning: $meaning,
        },)*];
    };
}

options! {
    "issuer" "string" "required" "The authorization server: `iss` must be exactly this, character by character (RFC 9068 §4)."
    "jwks" "object, or string of JSON" "required" "The issuer's JWK set (RFC 7517 §5), at most 64 keys. Private, symmetric and unusable keys are skipped and reported."
    "audience_required" "array of strings" "required" "`aud` must hold these. Entries are alternatives; the words of one entry, separated by spaces, must all be there. An entry may also be an array, for values with spaces in them: `[[\"Domain Admins\"]]`. Kong answers 403, keybound 401 (RFC 9068 §4)."
    "audience_claim" "array of strings" "`[\"aud\"]`" "Path of the audience claim."
    "insecure_any_audience" "boolean" "`false`" "Accepts tokens for any audience; only then may `audience_required` be absent. A token for another service of the same issuer then passes."
    "proof_of_possession_mtls" "`strict`, `optional` or `off`" "`strict`" "`strict`: every token must be bound to the connection's certificate. `optional`: a token without `cnf` passes, one with `cnf` must hold to it. `off`: `cnf` is not looked at."
    "client_certificate_validity" "boolean" "`false`" "Checks `notBefore` and `notAfter` of the connection's client certificate, where there is one, on every request: nginx does so at a full handshake only."
    "algorithms" "array of strings" "all of the build" "Accepted `alg` values: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, and ES512 with the aws-lc build."
    "token_types" "array of `at+jwt`, `JWT`, `none`" "`[\"at+jwt\"]`" "Accepted `typ` values; `none` is a token without `typ`. Only `at+jwt` tells an access token from the issuer's other tokens: of the others, a claim `typ` of `ID`, `Refresh`, `Offline` or `Logout` is refused, `claims_forbidden` must be absent, and unless `claims_required` is set there must be `client_id`, `scope`, `scp`, or `roles` with `azp` or `appid`."
    "claims_forbidden" "array of strings" "of `at+jwt`: none; else `[\"nonce\", \"at_hash\", \"c_hash\", \"s_hash\", \"events\"]`" "Claims that must not be there. Some servers write `nonce` into access tokens: then leave it out of this list."
    "claims_required" "array of strings" "of `at+jwt`: `[\"sub\", \"client_id\", \"iat\", \"jti\"]` (RFC 9068 §2.2); of `JWT`: none" "Claims that must be there and not null, besides `iss`, `exp` and the audience."
    "leeway" "number, seconds, 0 to 60" "`0`" "Difference of the clocks that is forgiven for `exp` and `nbf`; 10 seconds for `nbf` and 60 for `iat` are always forgiven (FAPI 2.0 §5.3.2.1)."
    "scopes_required" "array of strings" "none" "The scope claim must hold these, by the rule of `audience_required`; else 403."
    "scopes_claim" "array of strings" "`[\"scope\"]`" "Path of the scope claim."
    "groups_required" "array of strings" "none" "Likewise for groups."
    "groups_claim" "array of strings" "`[\"groups\"]`" "Path of the groups claim."
    "roles_required" "array of strings" "none" "Likewise for roles."
    "roles_claim" "array of strings" "`[\"roles\"]`" "Path of the roles claim."
    "upstream_headers_claims" "array of strings or of paths (arrays of strings)" "none" "Claims that the upstream gets as headers. Strings, numbers and booleans as they are, the rest as JSON. A value with control characters, and a number that cannot be told exactly, is not sent."
    "upstream_headers_names" "array of strings" "none" "The header of each of `upstream_headers_claims`. They are removed from the client's request first, on every path."
    "realm" "string" "none" "`realm` of the challenge."
    "unauthorized_error_message" "string" "`Unauthorized`" "`message` of the JSON body of a 401."
    "forbidden_error_message" "string" "`Forbidden`" "`message` of the JSON body of a 403."
    "expose_error_code" "boolean" "`true`" "Whether the challenge holds `error` and `scope`."
    "token_cache_entries" "number, 0 to 1000000" "`4096`" "Verified tokens that are remembered, per engine, rounded up to a power of two of at least 8; 0: none."
    "token_cache_bytes" "number, bytes, 0 to 1073741824" "`8388608`" "Memory of the remembered tokens, per engine."
}

/// A refused configuration. The message names the option and the valid values; of what was given it holds names at the most.
#[derive(Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// A claim that goes upstream as a header.
pub(crate) struct UpstreamHeader {
    pub(crate) name: Box<str>,
    pub(crate) path: Vec<String>,
}

/// A checked configuration.
pub struct Config {
    pub(crate) policy: Policy,
    pub(crate) mode: Mode,
    pub(crate) certificate_validity: bool,
    pub(crate) leeway: i64,
    pub(crate) scopes: Option<Rule>,
    pub(crate) groups: Option<Rule>,
    pub(crate) roles: Option<Rule>,
    pub(crate) upstream_headers: Vec<UpstreamHeader>,
    pub(crate) realm: Option<String>,
    pub(crate) unauthorized_message: String,
    pub(crate) forbidden_message: String,
    pub(crate) expose_error_code: bool,
    pub(crate) cache_entries: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) skipped_keys: Vec<SkippedKey>,
}

impl Config {
    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// The first thing that is wrong. A configuration that leaves a check out is wrong, unless an option named `insecure_…` says so.
    pub fn parse(text: &[u8]) -> Result<Config, ConfigError> {
        if text.len() > MAX_CONFIG {
            return Err(ConfigError(format!("the configuration is larger than {MAX_CONFIG} bytes")));
        }
        let members =
            json::members(text).map_err(|e| ConfigError(format!("the configuration is not a JSON object: {e}")))?;
        if let Some((name, _)) = members.iter().find(|(n, _)| OPTIONS.iter().all(|o| o.name != n)) {
            return Err(unknown(name));
        }
        let options = Options(members.into_iter().map(|(name, value)| (name.into_owned(), value)).collect());
        options.config()
    }
}

fn unknown(name: &str) -> ConfigError {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
    let nearest = OPTIONS
        .iter()
        .map(|o| (strsim::damerau_levenshtein(o.name, &name), o.name))
        .min()
        .filter(|(distance, nearest)| *distance <= nearest.len().div_euclid(3));
    ConfigError(match nearest {
        Some((_, nearest)) => format!("{name}: unknown option; did you mean {nearest}?"),
        None => {
            let names: Vec<&str> = OPTIONS.iter().map(|o| o.name).collect();
            format!("{name}: unknown option; the options are {}", names.join(", "))
        }
    })
}

fn error<T>(name: &str, what: impl fmt::Display) -> Result<T, ConfigError> {
    Err(ConfigError(format!("{name}: {what}")))
}

struct Options<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Options<'a> {
    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.get())
    }

    fn value(&self, name: &str) -> Result<Option<Value<'a>>, ConfigError> {
        match self.raw(name) {
            None => Ok(None),
            Some(raw) => match json::parse(raw.as_bytes()) {
                Ok(value) => Ok(Some(value)),
                Err(e) => error(name, e),
            },
        }
    }

    fn string(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match self.value(name)? {
            None => Ok(None),
            Some(Value::Str(s)) if !s.is_empty() => Ok(Some(s.into_owned())),
            Some(Value::Str(_)) => error(name, "must not be empty"),
            Some(other) => error(name, format_args!("must be a string, not {}", other.kind())),
        }
    }

    fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        match self.value(name)? {
            None => Ok(OPTIONS.iter().any(|o| o.name == name && o.default == "`true`")),
            Some(Value::Bool(b)) => Ok(b),
            Some(other) => error(name, format_args!("must be true or false, not {}", other.kind())),
        }
    }

    fn number(&self, name: &str, default: i64, max: i64) -> Result<i64, ConfigError> {
        let number = match self.value(name)? {
            None => return Ok(default),
            Some(Value::Int(n)) => Some(n),
            // Lua and some JSON encoders write whole numbers as floats.
            Some(Value::Float(n)) if n.fract() == 0.0 && n.abs() < 1e15 => Some(n as i64),
            Some(_) => None,
        };
        match number {
            Some(n) if (0..=max).contains(&n) => Ok(n),
            _ => error(name, format_args!("must be a whole number from 0 to {max}")),
        }
    }

    /// A non-empty array of non-empty strings.
    fn strings(&self, name: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        match string_array(&value) {
            Some(strings) => Ok(Some(strings)),
            None => error(name, "must be an array of at least one string, none of them empty"),
        }
    }

    fn rule(
        &self,
        required: &str,
        claim: &str,
        default_claim: &str,
        words: Words,
    ) -> Result<Option<Rule>, ConfigError> {
        let path = self.strings(claim)?;
        let Some(value) = self.value(required)? else {
            return match path {
                Some(_) => error(claim, format_args!("has no effect without {required}")),
                None => Ok(None),
            };
        };
        let entry = |entry: &Value<'_>| match entry {
            Value::Str(words) => Some(words.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect()),
            words => string_array(words),
        };
        let entries = value.as_array().filter(|entries| !entries.is_empty());
        let Some(required_words) = entries.and_then(|e| e.iter().map(entry).collect::<Option<Vec<Vec<String>>>>())
        else {
            return error(required, "must be an array of at least one string, or of arrays of strings with spaces");
        };
        // An entry of spaces only would ask for nothing, and so pass everybody.
        if required_words.iter().any(Vec::is_empty) {
            return error(required, "an entry holds no word");
        }
        Ok(Some(Rule { path: path.unwrap_or_else(|| vec![default_claim.to_owned()]), required: required_words, words }))
    }

    fn mode(&self) -> Result<Mode, ConfigError> {
        const NAME: &str = "proof_of_possession_mtls";
        match self.string(NAME)?.as_deref() {
            None | Some("strict") => Ok(Mode::Strict),
            Some("optional") => Ok(Mode::Optional),
            Some("off") => Ok(Mode::Off),
            Some(_) => error(NAME, "must be strict, optional or off"),
        }
    }

    fn keys(&self) -> Result<(JwkSet, Vec<SkippedKey>), ConfigError> {
        const NAME: &str = "jwks";
        let Some(raw) = self.raw(NAME) else {
            return error(NAME, "required: the issuer's JWK set, {\"keys\": [...]}");
        };
        let parsed = if raw.starts_with('"') {
            let Ok(text) = serde_json::from_str::<String>(raw) else {
                return error(NAME, "not a valid string");
            };
            JwkSet::parse(text.as_bytes())
        } else {
            JwkSet::parse(raw.as_bytes())
        };
        parsed.or_else(|e| error(NAME, e))
    }

    fn audience(&self) -> Result<Option<Rule>, ConfigError> {
        let rule = self.rule("audience_required", "audience_claim", "aud", Words::Whole)?;
        match (rule, self.boolean("insecure_any_audience")?) {
            (Some(_), true) => error("insecure_any_audience", "contradicts audience_required"),
            (None, false) => error(
                "audience_required",
                "required: without it a token for another service of the issuer would pass; set insecure_any_audience to true if that is meant",
            ),
            (rule, _) => Ok(rule),
        }
    }

    fn algorithms(&self) -> Result<Vec<Algorithm>, ConfigError> {
        const NAME: &str = "algorithms";
        let Some(names) = self.strings(NAME)? else {
            return Ok(Algorithm::ALL.to_vec());
        };
        let known: Option<Vec<Algorithm>> = names.iter().map(|n| Algorithm::from_name(n)).collect();
        known.map_or_else(
            || {
                let all: Vec<&str> = Algorithm::ALL.iter().map(|a| a.name()).collect();
                error(NAME, format_args!("must be of {}", all.join(", ")))
            },
            Ok,
        )
    }

    fn token_types(&self) -> Result<Vec<Type>, ConfigError> {
        const NAME: &str = "token_types";
        let Some(names) = self.strings(NAME)? else {
            return Ok(vec![Type::AccessToken]);
        };
        let typ = |name: &String| match name.as_str() {
            "at+jwt" => Some(Type::AccessToken),
            "JWT" => Some(Type::Jwt),
            "none" => Some(Type::Absent),
            _ => None,
        };
        names.iter().map(typ).collect::<Option<_>>().map_or_else(|| error(NAME, "must be of at+jwt, JWT, none"), Ok)
    }

    fn upstream_headers(&self) -> Result<Vec<UpstreamHeader>, ConfigError> {
        const CLAIMS: &str = "upstream_headers_claims";
        const NAMES: &str = "upstream_headers_names";
        let names = self.strings(NAMES)?.unwrap_or_default();
        let claims = self.value(CLAIMS)?;
        let paths: Option<Vec<Vec<String>>> = match &claims {
            None => Some(Vec::new()),
            Some(claims) => claims.as_array().filter(|claims| !claims.is_empty()).and_then(|claims| {
                claims
                    .iter()
                    .map(|claim| match claim {
                        Value::Str(name) if !name.is_empty() => Some(vec![name.clone().into_owned()]),
                        path => string_array(path),
                    })
                    .collect()
            }),
        };
        let Some(paths) = paths else {
            return error(CLAIMS, "must be an array of claim names, or of arrays that are paths");
        };
        if paths.len() != names.len() {
            return error(NAMES, format_args!("must have one name for each entry of {CLAIMS}"));
        }
        if names.len() > MAX_UPSTREAM_HEADERS {
            return error(NAMES, format_args!("must have at most {MAX_UPSTREAM_HEADERS} entries"));
        }
        for (i, name) in names.iter().enumerate() {
            if !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
                return error(NAMES, "a header name is made of letters, digits and hyphens");
            }
            const RESERVED: [&str; 9] = [
                "authorization",
                "host",
                "connection",
                "content-length",
                "transfer-encoding",
                "upgrade",
                "te",
                "expect",
                "cookie",
            ];
            if RESERVED.iter().any(|r| name.eq_ignore_ascii_case(r)) {
                return error(NAMES, format_args!("{name} cannot be set from a claim"));
            }
            if names.iter().take(i).any(|n| n.eq_ignore_ascii_case(name)) {
                return error(NAMES, format_args!("{name} occurs twice"));
            }
        }
        Ok(names.into_iter().zip(paths).map(|(name, path)| UpstreamHeader { name: name.into(), path }).collect())
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let Some(issuer) = self.string("issuer")? else {
            return error(
                "issuer",
                "required: the issuer identifier of the authorization server, as in its tokens' iss",
            );
        };
        let audience = self.audience()?;
        let (keys, skipped_keys) = self.keys()?;
        let realm = self.string("realm")?;
        // quoted-string without escapes (RFC 9110 §5.6.4).
        if realm.as_deref().is_some_and(|r| r.bytes().any(|c| !matches!(c, 0x20..=0x7e) || c == b'"' || c == b'\\')) {
            return error("realm", "must be printable ASCII without quote and backslash");
        }
        let scopes = self.rule("scopes_required", "scopes_claim", "scope", Words::Spaced)?;
        // They are written into the challenge (RFC 6750 §3).
        let bad = |w: &String| w.bytes().any(|c| !matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if scopes.iter().any(|rule| rule.required.iter().flatten().any(bad)) {
            return error(
                "scopes_required",
                "a scope is made of printable ASCII without quote and backslash (RFC 6749 §3.3)",
            );
        }
        let size = |name, default, max| self.number(name, default, max).map(|n| usize::try_from(n).unwrap_or(0));
        Ok(Config {
            policy: Policy {
                issuer: Issuer { name: issuer, keys, audience },
                algorithms: self.algorithms()?,
                types: self.token_types()?,
                claims_forbidden: self.strings("claims_forbidden")?,
                claims_required: self.strings("claims_required")?,
                headers: HeaderMemo::default(),
            },
            mode: self.mode()?,
            certificate_validity: self.boolean("client_certificate_validity")?,
            leeway: self.number("leeway", 0, MAX_LEEWAY)?,
            scopes,
            groups: self.rule("groups_required", "groups_claim", "groups", Words::Spaced)?,
            roles: self.rule("roles_required", "roles_claim", "roles", Words::Spaced)?,
            upstream_headers: self.upstream_headers()?,
            realm,
            unauthorized_message: self.string("unauthorized_error_message")?.unwrap_or_else(|| "Unauthorized".into()),
            forbidden_message: self.string("forbidden_error_message")?.unwrap_or_else(|| "Forbidden".into()),
            expose_error_code: self.boolean("expose_error_code")?,
            cache_entries: size("token_cache_entries", 4096, MAX_CACHE_ENTRIES)?,
            cache_bytes: size("token_cache_bytes", 8 << 20, MAX_CACHE_BYTES)?,
            skipped_keys,
        })
    }
}

fn string_array(value: &Value<'_>) -> Option<Vec<String>> {
    let strings: Vec<String> = value
        .as_array()?
        .iter()
        .map(|item| item.as_str().filter(|s| !s.is_empty()).map(str::to_owned))
        .collect::<Option<_>>()?;
    (!strings.is_empty()).then_some(strings)
}

/// `docs/configuration.md`, generated.
pub fn document() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         One JSON object, the same for every host. An unknown option, a wrong type or a value out of range is refused at load, with\n\
         a message that names the option and what is valid. This file is generated from `src/engine/config.rs` (`make docs`).\n\n\
         | option | type | default | meaning |\n\
         | --- | --- | --- | --- |\n",
    );
    for option in OPTIONS {
        text.push_str(&format!("| `{}` | {} | {} | {} |\n", option.name, option.kind, option.default, option.meaning));
    }
    text
}
