//! Kong's rule for `scopes_required`, `groups_required`, `roles_required` and `audience_required`: the entries of the
//! array are alternatives (OR), the words of one entry must all be there (AND).

use crate::jose::claims;
use crate::jose::json::Object;
use crate::reason::Reason;

/// What a claim that is one string holds. The strings of an array are values, whatever is in them: a group named
/// "former admins" is not the group "admins".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// One value (`aud`).
    Whole,
    /// Words with a space between (`scope`, RFC 8693 §4.2).
    Spaced,
}

/// What a claim must hold.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Where the claim is, from the outside in.
    pub(crate) path: Vec<String>,
    /// Alternatives, each of words that must all be there.
    pub(crate) required: Vec<Vec<String>>,
    pub(crate) words: Words,
}

impl Rule {
    /// Whether the claims satisfy the rule; an absent claim does not.
    pub(crate) fn holds(&self, claims: &Object<'_>) -> Result<bool, Reason> {
        let Some(value) = claims.at(&self.path) else {
            return Ok(false);
        };
        let strings = claims::strings(value)?;
        let split = self.words == Words::Spaced && value.as_str().is_some();
        let holds = |word: &String| {
            if split {
                strings.clone().any(|s| s.split(' ').any(|w| w == word))
            } else {
                strings.clone().any(|s| s == word)
            }
        };
        Ok(self.required.iter().any(|all| all.iter().all(holds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::json;

    fn rule(path: &[&str], required: &[&str], words: Words) -> Rule {
        Rule {
            path: path.iter().map(|s| (*s).to_owned()).collect(),
            required: required.iter().map(|r| r.split(' ').map(str::to_owned).collect()).collect(),
            words,
        }
    }

    fn holds(rule: &Rule, claims: &str) -> Result<bool, Reason> {
        rule.holds(&json::parse_object(claims.as_bytes()).expect("JSON"))
    }

    #[test]
    fn entries_are_alternatives_and_the_words_of_one_must_all_be_there() {
        let rule = rule(&["scope"], &["a b", "c"], Words::Spaced);
        for (claims, expected) in [
            (r#"{"scope":"a b"}"#, true),
            (r#"{"scope":"b x a"}"#, true),
            (r#"{"scope":"c"}"#, true),
            (r#"{"scope":["a","b"]}"#, true),
            (r#"{"scope":["a b"]}"#, false),
            (r#"{"scope":["former c"]}"#, false),
            (r#"{"scope":"a"}"#, false),
            (r#"{"scope":"ab"}"#, false),
            (r#"{"scope":"A B C"}"#, false),
            (r#"{"scope":""}"#, false),
            (r#"{"scope":[]}"#, false),
            (r"{}", false),
        ] {
            assert_eq!(holds(&rule, claims), Ok(expected), "{claims}");
        }
        assert_eq!(holds(&rule, r#"{"scope":1}"#), Err(Reason::ClaimsMalformed));
    }

    #[test]
    fn rfc9068_4_d_an_audience_is_compared_whole() {
        let rule = rule(&["aud"], &["https://api"], Words::Whole);
        for (claims, expected) in [
            (r#"{"aud":"https://api"}"#, true),
            (r#"{"aud":["x","https://api"]}"#, true),
            (r#"{"aud":"https://api x"}"#, false),
            (r#"{"aud":"https://api/"}"#, false),
            (r#"{"aud":"https://API"}"#, false),
            (r#"{"aud":"https://ap"}"#, false),
        ] {
            assert_eq!(holds(&rule, claims), Ok(expected), "{claims}");
        }
    }

    #[test]
    fn a_nested_path_is_followed() {
        let rule = rule(&["realm_access", "roles"], &["admin"], Words::Spaced);
        assert_eq!(holds(&rule, r#"{"realm_access":{"roles":["admin"]}}"#), Ok(true));
        for claims in
            [r#"{"realm_access.roles":["admin"],"roles":["admin"]}"#, r#"{"realm_access":"x","roles":["admin"]}"#]
        {
            assert_eq!(holds(&rule, claims), Ok(false), "{claims}");
        }
    }
}
