//! How the gateway proves who it is (RFC 6749 §2.3, RFC 7523, RFC 8705 §2): exactly one method in a request.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::assertion::Assertion;
use crate::reason::Reason;

/// `client_assertion_type` of RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client authentication method and what it needs.
#[derive(Clone)]
pub(crate) enum Method {
    /// `tls_client_auth`, `self_signed_tls_client_auth`: the connection proves it; and `none`, which proves nothing.
    ClientId,
    /// `client_secret_basic`
    SecretBasic(Arc<Zeroizing<String>>),
    /// `client_secret_post`
    SecretPost(Arc<Zeroizing<String>>),
    /// `private_key_jwt`, `client_secret_jwt`
    Assertion(Arc<Assertion>),
}

impl Method {
    /// Tells the methods apart, for the keys of caches (7662-4-d).
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Method::ClientId => "client_id",
            Method::SecretBasic(_) => "basic",
            Method::SecretPost(_) => "post",
            Method::Assertion(_) => "assertion",
        }
    }
}

#[derive(Clone)]
pub(crate) struct ClientAuth {
    pub(crate) client_id: String,
    pub(crate) method: Method,
}

impl ClientAuth {
    /// Adds what proves who the gateway is to a request for the server `issuer`.
    ///
    /// # Errors
    /// The assertion could not be signed.
    pub(crate) fn apply(
        &self,
        issuer: &str,
        now: i64,
        form: &mut Vec<(String, String)>,
        headers: &mut Vec<(String, String)>,
    ) -> Result<(), Reason> {
        // RFC 8705 §2: client_id in every request. Pushed authorization requests have it as a parameter (RFC 9126 §2.1).
        let is_named = form.iter().any(|(name, _)| name == "client_id");
        if !is_named && !matches!(self.method, Method::SecretBasic(_)) {
            form.push(("client_id".into(), self.client_id.clone()));
        }
        match &self.method {
            // The same in the body as in the header would be two methods (RFC 6749 §2.3).
            Method::SecretBasic(secret) => {
                let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = Zeroizing::new(format!("{}:{}", encode(&self.client_id), encode(secret)));
                headers.push(("authorization".into(), format!("Basic {}", STANDARD.encode(pair.as_bytes()))));
            }
            Method::ClientId => {}
            Method::SecretPost(secret) => form.push(("client_secret".into(), String::clone(secret))),
            Method::Assertion(assertion) => {
                let assertion = assertion.make(&self.client_id, issuer, now).ok_or(Reason::InternalError)?;
                form.push(("client_assertion_type".into(), ASSERTION_TYPE.into()));
                form.push(("client_assertion".into(), assertion));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret;

    type Pairs = Vec<(String, String)>;

    fn applied(method: Method) -> (Pairs, Pairs) {
        let (mut form, mut headers) = (Vec::new(), Vec::new());
        let auth = ClientAuth { client_id: "a:b c".into(), method };
        auth.apply("https://as.test", 1_800_000_000, &mut form, &mut headers).expect("applied");
        (form, headers)
    }

    fn secret() -> Arc<Zeroizing<String>> {
        Arc::new(Zeroizing::new("s:1 %ä".into()))
    }

    fn names(pairs: &Pairs) -> Vec<&str> {
        pairs.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn rfc6749_2_3_1_a_basic_encodes_both_parts_before_joining_them() {
        let (form, headers) = applied(Method::SecretBasic(secret()));
        assert!(form.is_empty());
        let decoded = STANDARD.decode(headers[0].1.strip_prefix("Basic ").expect("Basic")).expect("base64");
        assert_eq!(decoded, b"a%3Ab+c:s%3A1+%25%C3%A4");
    }

    #[test]
    fn rfc8705_2_b_and_d_tls_methods_send_the_client_id_and_nothing_else() {
        let (form, headers) = applied(Method::ClientId);
        assert_eq!(form, [("client_id".to_owned(), "a:b c".to_owned())]);
        assert!(headers.is_empty());
    }

    #[test]
    fn rfc6749_2_3_a_each_method_sends_its_own_and_no_other() {
        let (form, headers) = applied(Method::SecretPost(secret()));
        assert_eq!((names(&form), headers.len()), (vec!["client_id", "client_secret"], 0));
        let assertion = Assertion::Secret(Secret::new(b"0123456789abcdef0123456789abcdef"));
        let (form, headers) = applied(Method::Assertion(Arc::new(assertion)));
        assert_eq!((names(&form), headers.len()), (vec!["client_id", "client_assertion_type", "client_assertion"], 0));
    }
}
