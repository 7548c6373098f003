//! The part of the configuration that is about logins, sessions and grants.

use super::super::config::{ConfigError, Options};
use super::super::servers::{pairs, url};
use crate::binding::Policy;
use crate::client::http::Target;
use crate::session::cookie::SameSite;
use crate::session::keyring::Keyring;
use crate::session::{Method, Timeouts};

/// Longest `session_*_timeout`, in seconds: a year.
const MAX_TIMEOUT: i64 = 31_536_000;

/// Where the credentials of a method may be.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) header: bool,
    pub(crate) body: bool,
}

/// How sessions are kept.
pub(crate) struct Sessions {
    pub(crate) keyring: Keyring,
    pub(crate) cookie: String,
    pub(crate) audience: String,
    pub(crate) in_store: bool,
    pub(crate) same_site: SameSite,
    pub(crate) timeouts: Timeouts,
    /// `disable_session`
    pub(crate) disabled: Vec<Method>,
    /// `refresh_margin`, where tokens are refreshed
    pub(crate) refresh: Option<i64>,
}

/// How browsers are sent to log in.
pub(crate) struct Code {
    pub(crate) redirect_uri: String,
    /// Scheme and authority of the redirect URI
    pub(crate) origin: String,
    /// Its authority, as browsers write it into `Host`
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) arguments: Vec<(String, String)>,
    /// `None`: as the metadata says
    pub(crate) par: Option<bool>,
    pub(crate) timeout: i64,
}

/// How users log out.
pub(crate) struct Logout {
    pub(crate) suffix: Option<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) revoke_access_token: bool,
    pub(crate) revoke_refresh_token: bool,
    pub(crate) end_session: Option<String>,
    pub(crate) redirect_uri: Option<String>,
}

/// Everything that is not a token in the `Authorization` header.
pub(crate) struct Logins {
    pub(crate) sessions: Option<Sessions>,
    pub(crate) code: Option<Code>,
    pub(crate) logout: Logout,
    pub(crate) refresh_token: bool,
    pub(crate) password: Option<Places>,
    pub(crate) client_credentials: Option<Places>,
    /// `session_bind_certificate`
    pub(crate) bind: bool,
    pub(crate) scopes: Vec<String>,
    pub(crate) token_arguments: Vec<(String, String)>,
    /// Parameters of the request for the gateway's own token, if the upstream gets one
    pub(crate) upstream: Option<Vec<(String, String)>>,
    /// Audiences that an ID token may have besides the client.
    pub(crate) audiences: Vec<String>,
}

/// What the options of methods that are not configured would be for.
const OF_SESSION: [&str; 11] = [
    "session_secret",
    "session_previous_secrets",
    "session_audience",
    "session_storage",
    "session_cookie_name",
    "session_cookie_same_site",
    "session_rolling_timeout",
    "session_idling_timeout",
    "session_absolute_timeout",
    "session_bind_certificate",
    "disable_session",
];
const OF_CODE: [&str; 7] = [
    "redirect_uri",
    "login_timeout",
    "authorization_endpoint",
    "authorization_query_args_names",
    "authorization_query_args_values",
    "pushed_authorization_request_endpoint",
    "require_pushed_authorization_requests",
];
const OF_LOGOUT: [&str; 7] = [
    "end_session_endpoint",
    "logout_uri_suffix",
    "logout_methods",
    "logout_revoke",
    "logout_revoke_access_token",
    "logout_revoke_refresh_token",
    "logout_redirect_uri",
];

impl Logins {
    /// What `methods` need; `None` where all tokens come in the `Authorization` header and go on as they came.
    pub(in crate::engine) fn of(
        options: &Options<'_>,
        methods: &[Method],
        possession: Policy,
    ) -> Result<Option<Logins>, ConfigError> {
        let has = |method| methods.contains(&method);
        let bind = options.boolean("session_bind_certificate")?;
        check_methods(options, methods, possession, bind)?;
        let idle = |names: &[&'static str], what: &str| match names.iter().find(|name| options.is_set(name)) {
            Some(name) => options.error(name, format_args!("has no effect without {what}")),
            None => Ok(()),
        };
        if !has(Method::Session) {
            idle(&OF_SESSION, "session in auth_methods")?;
            idle(&OF_LOGOUT, "session in auth_methods")?;
            idle(&["refresh_tokens", "refresh_margin"], "session in auth_methods")?;
        }
        if !has(Method::AuthorizationCode) {
            idle(&OF_CODE, "authorization_code in auth_methods")?;
        }
        let grants = [Method::RefreshToken, Method::Password, Method::ClientCredentials, Method::AuthorizationCode];
        if !grants.iter().any(|grant| has(*grant)) {
            idle(&["scopes", "token_post_args_names", "token_post_args_values"], "a grant in auth_methods")?;
        }
        let upstream = match (
            options.boolean("upstream_client_credentials")?,
            arguments(options, "upstream_client_credentials_args", &[])?,
        ) {
            (true, _) if options.boolean("hide_credentials")? => {
                return options.error("hide_credentials", "contradicts upstream_client_credentials");
            }
            (true, arguments) => Some(arguments),
            (false, arguments) if arguments.is_empty() => None,
            (false, _) => {
                return options.error(
                    "upstream_client_credentials_args_names",
                    "has no effect without upstream_client_credentials",
                );
            }
        };
        let places = |method, name| match (has(method), options.is_set(name)) {
            (true, _) => places(options, name).map(Some),
            (false, true) => options.error(name, "has no effect: auth_methods has no such method"),
            (false, false) => Ok(None),
        };
        let password = places(Method::Password, "password_param_type")?;
        let client_credentials = places(Method::ClientCredentials, "client_credentials_param_type")?;
        if password.is_some_and(|places| places.header) && client_credentials.is_some_and(|places| places.header) {
            return options.error(
                "client_credentials_param_type",
                "the header can be of one method only: with password, too, one of them must be taken from the body",
            );
        }
        if methods.iter().all(|method| matches!(method, Method::Bearer | Method::Introspection)) && upstream.is_none() {
            return Ok(None);
        }
        if options.boolean("report_only")? {
            return options.error(
                "report_only",
                "contradicts auth_methods and upstream_client_credentials: a login or a grant cannot only be reported",
            );
        }
        let scopes = scopes(options, has(Method::AuthorizationCode))?;
        let sessions = if has(Method::Session) { Some(sessions(options, methods)?) } else { None };
        let code = if has(Method::AuthorizationCode) { Some(code(options)?) } else { None };
        if code.is_some() && sessions.as_ref().is_some_and(|sessions| sessions.same_site == SameSite::Strict) {
            return options.error(
                "session_cookie_same_site",
                "Strict contradicts authorization_code: a browser that comes back from the authorization server would not send the cookie",
            );
        }
        Ok(Some(Logins {
            sessions,
            code,
            logout: logout(options)?,
            refresh_token: has(Method::RefreshToken),
            password,
            client_credentials,
            bind,
            scopes,
            token_arguments: arguments(options, "token_post_args", &["scope"])?,
            upstream,
            audiences: options.strings("audience_required")?.unwrap_or_default(),
        }))
    }
}

/// Which methods go together, and with proof of possession.
fn check_methods(options: &Options<'_>, methods: &[Method], possession: Policy, bind: bool) -> Result<(), ConfigError> {
    const NAME: &str = "auth_methods";
    let has = |method| methods.contains(&method);
    let validates = options.boolean("proof_of_possession_auth_methods_validation")?;
    if has(Method::AuthorizationCode) && !has(Method::Session) {
        return options.error(NAME, "authorization_code needs session: a login is remembered in one");
    }
    if methods == [Method::Session] {
        return options.error(NAME, "session needs another method, which begins sessions");
    }
    let needs_client = methods.iter().any(|method| !matches!(method, Method::Bearer | Method::Session));
    if (needs_client || options.boolean("upstream_client_credentials")?) && !options.is_set("client_id") {
        return options.error(
            "client_id",
            "required for introspection, grants and logins: the gateway has to authenticate (RFC 7662 §2.1, RFC 6749 §2.3)",
        );
    }
    if possession.is_off() || !validates {
        return Ok(());
    }
    if let Some(method) =
        [Method::RefreshToken, Method::Password, Method::ClientCredentials].iter().find(|method| has(**method))
    {
        return options.error(
            NAME,
            format_args!(
                "{} is not compatible with proof of possession: its token is bound to the gateway and not to the client. \
                 Set proof_of_possession_mtls and proof_of_possession_dpop to off, or proof_of_possession_auth_methods_validation to false: then each \
                 request whose proof is not checked is logged and counted",
                method.name()
            ),
        );
    }
    if has(Method::AuthorizationCode) && !bind {
        return options.error(
            "session_bind_certificate",
            "must be true for authorization_code to be compatible with proof of possession: its token is bound to the gateway, and only \
             the session can be bound to the client",
        );
    }
    Ok(())
}

fn sessions(options: &Options<'_>, methods: &[Method]) -> Result<Sessions, ConfigError> {
    const NAME: &str = "session_secret";
    let Some(secrets) = options.secrets(NAME, "session_previous_secrets")? else {
        return options.error(NAME, "required by session in auth_methods (openssl rand -base64 32)");
    };
    if !options.is_set("store_secret") {
        return options.error(
            "store_secret",
            "required by session in auth_methods: without a shared store workers would refresh a token twice, and a login could come back twice",
        );
    }
    let cookie = options.string("session_cookie_name")?.unwrap_or_else(|| "__Host-session".into());
    let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if !cookie.bytes().all(is_token) || cookie.len() > 64 {
        return options.error(
            "session_cookie_name",
            "must be a token (RFC 6265 §4.1.1) of at most 64 characters; browsers keep __Host- cookies for one host alone",
        );
    }
    let same_site = match options.string("session_cookie_same_site")?.as_deref() {
        None | Some("Lax") => SameSite::Lax,
        Some("Strict") => SameSite::Strict,
        Some("None") => SameSite::None,
        Some(_) => return options.error("session_cookie_same_site", "must be Strict, Lax or None"),
    };
    let in_store = match options.string("session_storage")?.as_deref() {
        None | Some("cookie") => false,
        Some("store") => true,
        Some(_) => {
            return options.error(
                "session_storage",
                "must be cookie, or store: the shared store of the host, a Redis for example",
            );
        }
    };
    let timeout = |name, default| options.number(name, default, 0..=MAX_TIMEOUT);
    let timeouts = Timeouts {
        rolling: timeout("session_rolling_timeout", 3600)?,
        idling: timeout("session_idling_timeout", 900)?,
        absolute: timeout("session_absolute_timeout", 86_400)?,
    };
    let disabled = match options.strings("disable_session")? {
        None => Vec::new(),
        Some(names) => match names.iter().map(|name| Method::from_name(name)).collect::<Option<Vec<_>>>() {
            Some(methods) => methods,
            None => return options.error("disable_session", "must be of the methods of auth_methods"),
        },
    };
    if disabled.contains(&Method::AuthorizationCode) || disabled.contains(&Method::Session) {
        return options.error("disable_session", "authorization_code needs its session, and session begins none");
    }
    if let Some(method) = disabled.iter().find(|method| !methods.contains(method)) {
        return options.error("disable_session", format_args!("{} is not in auth_methods", method.name()));
    }
    // Instances that were given one secret by mistake still have sessions of their own.
    let audience = match options.string("session_audience")? {
        Some(audience) => audience,
        None => {
            let text = |name| options.string(name).map(Option::unwrap_or_default);
            let (issuer, client) = (text("issuer")?, text("client_id")?);
            format!("{}:{issuer} {client}", issuer.len())
        }
    };
    let margin = options.number("refresh_margin", 30, 0..=3600)?;
    let refresh = options.boolean("refresh_tokens")?.then_some(margin);
    Ok(Sessions { keyring: Keyring::new(&secrets), cookie, audience, in_store, same_site, timeouts, disabled, refresh })
}

fn code(options: &Options<'_>) -> Result<Code, ConfigError> {
    const NAME: &str = "redirect_uri";
    if options.string("issuer")?.is_some_and(|issuer| Target::parse(&issuer).is_err() || issuer.contains('?')) {
        return options.error("issuer", "must be an https URL without query: authorization_code needs its metadata");
    }
    let Some(redirect_uri) = options.string(NAME)? else {
        return options
            .error(NAME, "required by authorization_code: where the authorization server sends browsers back to");
    };
    let target = match Target::parse(&redirect_uri) {
        Ok(target) if !redirect_uri.contains('?') && target.path.len() > 1 => target,
        _ => return options.error(NAME, "must be an https URL with a path of its own, without query and fragment"),
    };
    let host = target.authority();
    Ok(Code {
        origin: format!("https://{host}"),
        host,
        path: target.path,
        redirect_uri,
        endpoint: url(options, "authorization_endpoint")?,
        arguments: arguments(options, "authorization_query_args", &["scope"])?,
        par: options
            .is_set("require_pushed_authorization_requests")
            .then(|| options.boolean("require_pushed_authorization_requests"))
            .transpose()?,
        timeout: options.number("login_timeout", 600, 60..=3600)?,
    })
}

fn logout(options: &Options<'_>) -> Result<Logout, ConfigError> {
    const METHODS: &str = "logout_methods";
    let methods = options.strings(METHODS)?.unwrap_or_else(|| vec!["POST".into(), "DELETE".into()]);
    if methods.iter().any(|method| !["GET", "POST", "DELETE"].contains(&method.as_str())) {
        return options.error(METHODS, "must be of GET, POST, DELETE");
    }
    let suffix = options.string("logout_uri_suffix")?;
    if suffix.as_deref().is_some_and(|suffix| !suffix.starts_with('/') || suffix.contains(['?', '#'])) {
        return options.error("logout_uri_suffix", "must begin with a slash, and have no query");
    }
    if suffix.is_none()
        && let Some(name) = OF_LOGOUT.iter().find(|name| options.is_set(name))
    {
        return options.error(name, "has no effect without logout_uri_suffix");
    }
    let revoke = options.boolean("logout_revoke")?;
    Ok(Logout {
        suffix,
        methods,
        revoke_access_token: revoke && options.boolean("logout_revoke_access_token")?,
        revoke_refresh_token: revoke && options.boolean("logout_revoke_refresh_token")?,
        end_session: url(options, "end_session_endpoint")?,
        redirect_uri: url(options, "logout_redirect_uri")?,
    })
}

fn places(options: &Options<'_>, name: &str) -> Result<Places, ConfigError> {
    let mut places = Places::default();
    for place in options.strings(name)?.unwrap_or_else(|| vec!["header".into()]) {
        match place.as_str() {
            "header" => places.header = true,
            "body" => places.body = true,
            _ => return options.error(name, "must be of header, body: what is in a query is in logs"),
        }
    }
    Ok(places)
}

fn scopes(options: &Options<'_>, needs_openid: bool) -> Result<Vec<String>, ConfigError> {
    const NAME: &str = "scopes";
    let scopes = options.strings(NAME)?.unwrap_or_else(|| vec!["openid".into()]);
    let bad = |scope: &String| scope.bytes().any(|c| !matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    if scopes.iter().any(bad) {
        return options
            .error(NAME, "a scope is made of printable ASCII without space, quote and backslash (RFC 6749 §3.3)");
    }
    if needs_openid && !scopes.iter().any(|scope| scope == "openid") {
        return options.error(NAME, "must hold openid: without an ID token nobody knows for whom a login was");
    }
    Ok(scopes)
}

/// Further parameters of a request. What keybound sets itself, `more` among it, nobody else sets.
fn arguments(options: &Options<'_>, name: &str, more: &[&str]) -> Result<Vec<(String, String)>, ConfigError> {
    const OURS: [&str; 22] = [
        "response_type",
        "response_mode",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "redirect_uri",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "code",
        "grant_type",
        "refresh_token",
        "username",
        "password",
        "request",
        "request_uri",
        "token",
        "token_type_hint",
        "dpop_jkt",
    ];
    let names = format!("{name}_names");
    let arguments = pairs(options, &names, &format!("{name}_values"))?;
    match arguments.iter().find(|(own, _)| OURS.iter().chain(more).any(|ours| ours == own)) {
        Some((own, _)) => options.error(&names, format_args!("{own} is set by keybound itself")),
        None => Ok(arguments),
    }
}
