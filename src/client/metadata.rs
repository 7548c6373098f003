//! Authorization server metadata (RFC 8414, OpenID Connect Discovery 1.0, RFC 8705 §5).

use super::http::Target;
use crate::jose::json::{self, Object, Value};
use crate::reason::Reason;
use crate::steps::{Endpoint, Refusal};

/// Members that name an endpoint that the gateway calls, in the order of [`Metadata`]'s arrays.
const ENDPOINTS: [&str; 4] =
    ["introspection_endpoint", "token_endpoint", "revocation_endpoint", "pushed_authorization_request_endpoint"];

/// A URL of the document; if it must not be used, why.
type Location = Option<Result<String, String>>;

/// What the gateway uses of the document.
#[derive(Debug)]
pub(crate) struct Metadata {
    jwks_uri: Location,
    endpoints: [Location; 4],
    aliases: [Location; 4],
    authorization: Location,
    end_session: Location,
    /// `authorization_response_iss_parameter_supported` (RFC 9207 §3)
    pub(crate) promises_iss: bool,
    /// `require_pushed_authorization_requests` (RFC 9126 §5)
    pub(crate) requires_par: bool,
}

/// Where the document of an issuer may be: as OpenID Connect says (appended), and as RFC 8414 §3.1 says (inserted).
pub(crate) fn urls(issuer: &str) -> [String; 2] {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    let path = issuer.match_indices('/').nth(2).map_or(issuer.len(), |(at, _)| at);
    let (origin, path) = issuer.split_at_checked(path).unwrap_or((issuer, ""));
    [
        format!("{issuer}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ]
}

impl Metadata {
    /// Reads a document. It must be that of `issuer`, character by character (RFC 8414 §3.3), and may send us to the issuer's own host
    /// and to `hosts` only: a document must not make the gateway call what the operator never named.
    pub(crate) fn parse(body: &[u8], issuer: &str, hosts: &[String]) -> Result<Metadata, String> {
        // Member by member: lists that are of no use here do not count against the limits.
        let members = json::members(body).map_err(|e| format!("the metadata is not a JSON object: {e}"))?;
        let value = |name: &str| -> Result<Option<Value<'_>>, String> {
            let member = members.iter().find(|(n, _)| n == name);
            member.map(|(_, raw)| json::parse(raw.get().as_bytes())).transpose().map_err(|e| format!("{name}: {e}"))
        };
        if value("issuer")?.as_ref().and_then(Value::as_str) != Some(issuer) {
            return Err(format!("the metadata's issuer is not exactly {issuer}"));
        }
        let own = Target::parse(issuer).map_err(|_| "the issuer is not an https URL".to_owned())?.host;
        let location = |name: &str, value: Option<&Value<'_>>| -> Location {
            let refuse = |what: String| Some(Err(format!("{name} of the metadata {what}")));
            let url = match value? {
                Value::Str(url) => url,
                other => return refuse(format!("is {}, not a string", other.kind())),
            };
            match Target::parse(url) {
                Err(_) => refuse("is not an https URL".into()),
                Ok(target) if target.host == own || hosts.contains(&target.host) => Some(Ok(url.clone().into_owned())),
                Ok(target) => refuse(format!(
                    "names the host {}, which is neither the issuer's nor in endpoint_hosts",
                    target.host
                )),
            }
        };
        let aliases = match value("mtls_endpoint_aliases")? {
            Some(Value::Object(aliases)) => aliases,
            _ => Object::default(),
        };
        let mut endpoints = [const { None }; 4];
        for (endpoint, name) in endpoints.iter_mut().zip(ENDPOINTS) {
            *endpoint = location(name, value(name)?.as_ref());
        }
        Ok(Metadata {
            jwks_uri: location("jwks_uri", value("jwks_uri")?.as_ref()),
            endpoints,
            aliases: ENDPOINTS.map(|name| location(name, aliases.get(name))),
            authorization: location("authorization_endpoint", value("authorization_endpoint")?.as_ref()),
            end_session: location("end_session_endpoint", value("end_session_endpoint")?.as_ref()),
            promises_iss: value("authorization_response_iss_parameter_supported")? == Some(Value::Bool(true)),
            requires_par: value("require_pushed_authorization_requests")? == Some(Value::Bool(true)),
        })
    }

    /// The URL of an endpoint. With a client certificate the alias comes first, and where there is none the endpoint itself is
    /// called (RFC 8705 §5).
    pub(crate) fn endpoint(&self, endpoint: Endpoint, mutual: bool) -> Result<String, Refusal> {
        let place = match endpoint {
            Endpoint::Introspection => 0,
            Endpoint::Token => 1,
            Endpoint::Revocation => 2,
            Endpoint::Par => 3,
            Endpoint::Metadata | Endpoint::Jwks => return Err(Reason::InternalError.into()),
        };
        let at = |list: &[Location; 4]| list.get(place).cloned().flatten();
        let name = ENDPOINTS.get(place).copied().unwrap_or_default();
        take(at(&self.aliases).filter(|_| mutual).or_else(|| at(&self.endpoints)).as_ref(), name)
    }

    /// Where browsers are sent to log in.
    pub(crate) fn authorization(&self) -> Result<String, Refusal> {
        take(self.authorization.as_ref(), "authorization_endpoint")
    }

    /// Where browsers are sent to log out, if there is such a place (OpenID Connect RP-Initiated Logout 1.0 §2.1).
    pub(crate) fn end_session(&self) -> Result<Option<String>, Refusal> {
        self.end_session.as_ref().map(|location| take(Some(location), "end_session_endpoint")).transpose()
    }

    /// The URL of the keys.
    pub(crate) fn jwks_uri(&self) -> Result<String, Refusal> {
        take(self.jwks_uri.as_ref(), "jwks_uri")
    }
}

fn take(location: Option<&Result<String, String>>, name: &str) -> Result<String, Refusal> {
    match location {
        Some(Ok(url)) => Ok(url.clone()),
        Some(Err(why)) => Err(Refusal::new(Reason::MetadataUnavailable, why.as_str())),
        None => Err(Refusal::new(Reason::MetadataUnavailable, format!("the metadata has no {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://as.test";

    fn parse(members: &str, hosts: &[&str]) -> Result<Metadata, String> {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        Metadata::parse(format!(r#"{{"issuer":"{ISSUER}"{members}}}"#).as_bytes(), ISSUER, &hosts)
    }

    fn jwks_uri(url: &str, hosts: &[&str]) -> Result<String, Refusal> {
        parse(&format!(r#","jwks_uri":{url}"#), hosts).expect("a document").jwks_uri()
    }

    #[test]
    fn rfc8414_3_1_a_the_well_known_path_is_inserted_and_openid_connect_appends_it() {
        for (issuer, appended, inserted) in [
            (
                "https://a.test",
                "https://a.test/.well-known/openid-configuration",
                "https://a.test/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.test/",
                "https://a.test/.well-known/openid-configuration",
                "https://a.test/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.test:8443",
                "https://a.test:8443/.well-known/openid-configuration",
                "https://a.test:8443/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.test/x",
                "https://a.test/x/.well-known/openid-configuration",
                "https://a.test/.well-known/oauth-authorization-server/x",
            ),
            (
                "https://a.test/x/y/",
                "https://a.test/x/y/.well-known/openid-configuration",
                "https://a.test/.well-known/oauth-authorization-server/x/y",
            ),
            (
                "https://[::1]:8/x",
                "https://[::1]:8/x/.well-known/openid-configuration",
                "https://[::1]:8/.well-known/oauth-authorization-server/x",
            ),
        ] {
            assert_eq!(urls(issuer), [appended.to_owned(), inserted.to_owned()]);
        }
    }

    #[test]
    fn rfc8414_3_3_a_the_issuer_must_be_identical() {
        assert!(parse("", &[]).is_ok());
        for other in [
            "\"https://as.test/\"",
            "\"https://AS.test\"",
            "\"https://other.test\"",
            "null",
            "1",
            "[\"https://as.test\"]",
        ] {
            let document = format!(r#"{{"issuer":{other}}}"#);
            assert!(Metadata::parse(document.as_bytes(), ISSUER, &[]).is_err(), "{other}");
        }
        assert!(Metadata::parse(b"{}", ISSUER, &[]).is_err());
        assert!(Metadata::parse(br#"{"issuer":"https://as.test","issuer":"https://as.test"}"#, ISSUER, &[]).is_err());
    }

    #[test]
    fn rfc8414_2_a_and_fault_19_only_https_and_only_hosts_that_the_operator_named() {
        assert_eq!(jwks_uri("\"https://as.test:9/keys\"", &[]), Ok("https://as.test:9/keys".into()));
        assert_eq!(jwks_uri("\"https://keys.test/\"", &["keys.test"]), Ok("https://keys.test/".into()));
        for url in [
            "\"http://as.test/keys\"",
            "\"https://keys.test/\"",
            "\"https://127.0.0.1/\"",
            "\"https://[::1]/\"",
            "\"https://localhost/\"",
            "\"https://as.test@evil.test/\"",
            "\"https://as.test.evil.test/\"",
            "\"//as.test/\"",
            "\"/keys\"",
            "\"\"",
            "null",
            "7",
            "{}",
        ] {
            assert_eq!(jwks_uri(url, &[]).map_err(|r| r.reason), Err(Reason::MetadataUnavailable), "{url}");
        }
    }

    #[test]
    fn rfc8705_5_a_the_alias_is_taken_with_a_certificate_and_else_the_endpoint() {
        let both = parse(
            r#","token_endpoint":"https://as.test/t","introspection_endpoint":"https://as.test/i","mtls_endpoint_aliases":{"token_endpoint":"https://as.test:1/t","issuer":"https://evil.test","jwks_uri":"https://evil.test"}"#,
            &[],
        )
        .expect("a document");
        assert_eq!(both.endpoint(Endpoint::Token, true), Ok("https://as.test:1/t".into()));
        assert_eq!(both.endpoint(Endpoint::Token, false), Ok("https://as.test/t".into()));
        // 8705-5-b
        assert_eq!(both.endpoint(Endpoint::Introspection, true), Ok("https://as.test/i".into()));
        assert!(both.endpoint(Endpoint::Revocation, true).is_err());
        // 8705-5-c: what is no endpoint in the aliases changes nothing
        assert!(both.jwks_uri().is_err());
    }

    #[test]
    fn an_alias_that_must_not_be_used_is_not_replaced_by_the_endpoint() {
        let bad = parse(
            r#","token_endpoint":"https://as.test/t","mtls_endpoint_aliases":{"token_endpoint":"https://evil.test/t"}"#,
            &[],
        );
        assert!(bad.expect("a document").endpoint(Endpoint::Token, true).is_err());
    }

    #[test]
    fn long_lists_in_the_document_do_no_harm() {
        let list = vec!["\"x\""; 2000].join(",");
        assert!(parse(&format!(r#","claims_supported":[{list}]"#), &[]).is_ok());
    }
}
