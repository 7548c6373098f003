//! The configuration: JSON in, checked settings out. Names are Kong's wherever the meaning is the same.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::http::HEADERS;
use super::login::config::Logins;
use super::proof::{self, Dpop};
use super::respond::Headers;
use super::servers::{self, Asked, TlsProfile, TlsProfiles};
use super::verify::Rules;
use crate::client::{Lifetimes, ServerSetup};
use crate::crypto::Algorithm;
use crate::jose::json::{self, Value};
use crate::jose::jwk::{JwkSet, SkippedKey};
use crate::jose::jws::{HeaderMemo, Type};
use crate::session::Method;
use crate::steps::Timeouts;
use crate::token::jwt::Policy;
use crate::token::rule::{Rule, Words};

/// Largest configuration, in bytes: a JWK set of the largest size and the rest.
const MAX_CONFIG: usize = 512 * 1024;
/// Largest `leeway`, in seconds: clocks that differ more are broken.
const MAX_LEEWAY: i64 = 60;
/// Largest `token_cache_entries`: with tokens of 1 KiB this is more than `token_cache_bytes` can hold by default.
const MAX_CACHE_ENTRIES: i64 = 1_000_000;
/// Largest `token_cache_bytes`: 1 GiB for one worker.
const MAX_CACHE_BYTES: i64 = 1 << 30;
/// Largest deadline for a request to an authorization server, in milliseconds.
const MAX_TIMEOUT: i64 = 60_000;
/// Shortest secret, in characters: of `openssl rand -base64 32` it has all the strength.
const MIN_SECRET: usize = 32;
/// Most secrets of one kind: each is tried.
const MAX_SECRETS: usize = 8;
/// Most headers that claims are written to, in each direction.
const MAX_CLAIM_HEADERS: usize = 32;

/// One option, for the parser, its messages and `docs/configuration.md`.
pub struct OptionDoc {
    /// The name in the JSON
    pub name: &'static str,
    /// The JSON type, with unit or valid values
    pub kind: &'static str,
    /// What holds where the option is absent
    pub default: &'static str,
    /// Its name in Kong Enterprise's `openid-connect`: `=` for the same, empty for none
    pub kong: &'static str,
    /// What it does
    pub meaning: &'static str,
}

macro_rules! options {
    ($($name:literal $kind:literal $default:literal $kong:literal $meaning:literal)*) => {
        /// Every option.
        pub const OPTIONS: &[OptionDoc] = &[$(OptionDoc {
            name: $name, kind: $kind, default: $default, kong: $kong, meaning: $meaning,
        },)*];
    };
}

options! {
    "issuer" "string" "required" "=" "The authorization server: `iss` must be exactly this, character by character (RFC 9068 §4). Where its metadata is fetched it is an `https` URL."
    "jwks" "object, or string of JSON" "fetched" "" "The issuer's JWK set (RFC 7517 §5), at most 64 keys. Private, symmetric and unusable keys are skipped, and reported at load. Without it the keys are fetched from `jwks_uri`, or from where the metadata says."
    "jwks_uri" "string, `https` URL" "from the metadata" "jwks_endpoint" "Where the keys are fetched from."
    "audience_required" "array of strings" "required" "=" "`aud` must hold these. Entries are alternatives; the words of one entry, separated by spaces, must all be there. An entry may also be an array, for values with spaces in them: `[[\"Domain Admins\"]]`. Kong answers 403, keybound 401 (RFC 9068 §4)."
    "audience_claim" "array of strings" "`[\"aud\"]`" "=" "Path of the audience claim."
    "insecure_any_audience" "boolean" "`false`" "" "Accepts tokens for any audience; only then may `audience_required` be absent. A token for another service of the same issuer then passes."
    "issuers_allowed" "array of strings or of objects" "none" "=" "Further issuers. A string is an issuer whose metadata and keys are fetched; an object has `issuer` and any of the options marked per issuer. A token is verified with the keys of its own issuer only. Nothing of the first issuer holds for the others but the audience, where they name none: no secret and no certificate goes to another server."
    "endpoint_hosts" "array of strings" "none" "" "Hosts that the issuer's metadata may name, besides the issuer's own: metadata that names another one is not followed there."
    "auth_methods" "array of `session`, `bearer`, `introspection`, `refresh_token`, `password`, `client_credentials`, `authorization_code`" "`[\"bearer\", \"introspection\"]` with `client_id`, else `[\"bearer\"]`" "=" "How a request may show who it is for; they are tried in this order, whatever the order here, and the first for which something came decides. `bearer`: tokens of three parts are JWTs, verified with keys. `introspection`: other tokens are introspected at the first issuer; without `bearer`, all are. `session`: the cookie of a session, which each of the other methods begins (`disable_session`). `refresh_token`: the header `Refresh-Token`. `password`, `client_credentials`: credentials, for which the gateway fetches a token. `authorization_code`: browsers are sent to the authorization server to log in ([logins.md](logins.md)). All but `bearer` and `introspection` use the first issuer only."
    "proof_of_possession_mtls" "`strict`, `optional` or `off`" "`strict`; `off` where `proof_of_possession_dpop` is `strict` or `optional`" "=" "`strict`: every token must be bound to the connection's certificate. `optional`: a token without `cnf` passes, one with `cnf` must hold to it. `off`: bindings to certificates are not checked; a token with one is refused then, unless `proof_of_possession_dpop` is `off`, too, and `cnf` is not looked at."
    "proof_of_possession_dpop" "`strict`, `optional` or `off`" "`off`" "=" "`strict`: every token must be bound to a key, and come with a proof by that key (RFC 9449, [dpop.md](dpop.md)). `optional`: a token that is not bound to a key passes with the scheme `Bearer`; one that is must come with its proof. `off`: proofs are not taken, and tokens that are bound to a key are refused, unless `proof_of_possession_mtls` is `off`, too. The other two need `public_origin` or `trusted_ips`, and `store_secret`."
    "proof_of_possession_either" "boolean" "`false`" "" "With both of them `strict`: it is enough for a token to be bound to a certificate or to a key. What it is bound to is checked in any case."
    "dpop_algorithms" "array of strings" "`[\"ES256\", \"PS256\", \"EdDSA\"]`" "" "Accepted `alg` values of proofs. Clients are told them in the challenge."
    "dpop_proof_lifetime" "number, seconds, 1 to 3600" "`60`" "=" "How old a proof may be: by its `iat`, or with `dpop_use_nonce` by the time of its nonce. For so long it is remembered. Kong: 300, and it may be used again meanwhile."
    "dpop_proof_leeway" "number, seconds, 0 to 60" "`5`" "" "How far `iat` of a proof, or the nonce of another node, may be ahead of the gateway's clock."
    "dpop_use_nonce" "boolean" "`false`" "=" "Whether a proof must hold a nonce of the gateway. A client gets one with its first answer, a 401, and later ones with others. Then no proof can be made in advance, and the clock of the client does not matter."
    "dpop_nonce_secret" "string, at least 32 characters" "required by `dpop_use_nonce`" "" "What nonces are made with: the same on all nodes. `openssl rand -base64 32` makes one. To replace it, first add the new one to `dpop_nonce_previous_secrets` everywhere, then exchange the two."
    "dpop_nonce_previous_secrets" "array of strings" "none" "" "Other values of `dpop_nonce_secret`, whose nonces are accepted, too."
    "public_origin" "array of strings, `https` origins, or one" "required by `proof_of_possession_dpop` without `trusted_ips`" "" "Scheme, host and port in the URLs that clients use, such as `https://api.example.com`: `htu` of a proof must begin so. Of several, the one that `Host` names."
    "public_path_prefix" "string" "none" "" "What these URLs have before the path that the gateway sees, such as `/base`."
    "trusted_ips" "array of addresses or networks, or `unix:`" "none" "" "Proxies before the gateway whose `X-Forwarded-Proto` is believed; where `public_origin` has several entries, or none, also `X-Forwarded-Host` and `X-Forwarded-Port`, and without it and `public_path_prefix` also `X-Forwarded-Prefix`. Of all others they are ignored. The proxies must set these headers themselves: many hand on what the client sent. Only over them a proof may come by plain HTTP."
    "upstream_dpop_as_bearer" "boolean" "`true`" "" "The upstream gets a token that came with a proof as `Bearer`, and no `DPoP` header, as from Kong. `false`: it gets both as they came."
    "insecure_dpop_replay" "boolean" "`false`" "" "Proofs are taken without a shared store, and while it fails: they can then be used again for as long as `dpop_proof_lifetime`."
    "proof_of_possession_auth_methods_validation" "boolean" "`true`" "=" "`true`: methods whose token is bound to the gateway and not to the client are refused at load while `proof_of_possession_mtls` or `proof_of_possession_dpop` is `strict` or `optional`: `refresh_token`, `password`, `client_credentials`, and `authorization_code` without `session_bind_certificate`. `false`: they are taken, and each request whose proof of possession is not checked is logged and counted (`keybound_binding_skipped_total`)."
    "client_certificate_validity" "boolean" "`false`" "" "Checks `notBefore` and `notAfter` of the connection's client certificate, where there is one, on every request: nginx does so at a full handshake only."
    "algorithms" "array of strings" "all of the build" "" "Accepted `alg` values: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, and ES512 with the aws-lc build."
    "token_types" "array of `at+jwt`, `JWT`, `none`" "`[\"at+jwt\"]`" "" "Accepted `typ` values; `none` is a token without `typ`. Only `at+jwt` tells an access token from the issuer's other tokens: of the others, a claim `typ` of `ID`, `Refresh`, `Offline` or `Logout` is refused, `claims_forbidden` must be absent, and unless `claims_required` is set there must be `client_id`, `scope`, `scp`, or `roles` with `azp` or `appid`."
    "claims_forbidden" "array of strings" "of `at+jwt`: none; else `[\"nonce\", \"at_hash\", \"c_hash\", \"s_hash\", \"events\"]`" "=" "Claims that must not be there. Some servers write `nonce` into access tokens: then leave it out of this list."
    "claims_required" "array of strings" "of `at+jwt`: `[\"sub\", \"client_id\", \"iat\", \"jti\"]` (RFC 9068 §2.2); of `JWT`: none" "" "Claims that must be there and not null, besides `iss`, `exp` and the audience."
    "leeway" "number, seconds, 0 to 60" "`0`" "=" "Difference of the clocks that is forgiven for `exp` and `nbf`; 10 seconds for `nbf` and 60 for `iat` are always forgiven (FAPI 2.0 §5.3.2.1)."
    "scopes_required" "array of strings" "none" "=" "The scope claim must hold these, by the rule of `audience_required`; else 403."
    "scopes_claim" "array of strings" "`[\"scope\"]`" "=" "Path of the scope claim."
    "groups_required" "array of strings" "none" "=" "Likewise for groups."
    "groups_claim" "array of strings" "`[\"groups\"]`" "=" "Path of the groups claim."
    "roles_required" "array of strings" "none" "=" "Likewise for roles."
    "roles_claim" "array of strings" "`[\"roles\"]`" "=" "Path of the roles claim."
    "client_id" "string, or array of one" "none" "=" "The gateway as a client of the issuer. In the body of every request, except with `client_secret_basic` (RFC 8705 §2)."
    "client_auth" "`tls_client_auth`, `self_signed_tls_client_auth`, `client_secret_basic`, `client_secret_post`, `client_secret_jwt`, `private_key_jwt` or `none`; or array of one" "by what is configured, if that is one thing" "=" "How the gateway authenticates. A client certificate (`tls_client_auth_cert_id`) is offered with each method; the two TLS methods need it."
    "client_secret" "string, or array of one" "none" "=" "For the methods with a secret."
    "client_jwk" "object, or string of JSON or PEM; or array of one" "none" "=" "The private key of `private_key_jwt`: a JWK, or PKCS#8."
    "client_alg" "`RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`, `HS256`; or array of one" "by the key: PS256, ES256, ES384, EdDSA; HS256 for a secret" "=" "Algorithm of the assertion. Its audience is the issuer."
    "token_endpoint" "string, `https` URL" "from the metadata" "=" "The token endpoint."
    "introspection_endpoint" "string, `https` URL" "from the metadata" "=" "The introspection endpoint."
    "revocation_endpoint" "string, `https` URL" "from the metadata" "=" "The revocation endpoint."
    "mtls_token_endpoint" "string, `https` URL" "`token_endpoint`, else from `mtls_endpoint_aliases`" "=" "The token endpoint for requests with a client certificate (RFC 8705 §5)."
    "mtls_introspection_endpoint" "string, `https` URL" "likewise" "=" "The introspection endpoint for requests with a client certificate."
    "mtls_revocation_endpoint" "string, `https` URL" "likewise" "=" "The revocation endpoint for requests with a client certificate."
    "token_endpoint_auth_method" "as `client_auth`" "`client_auth`" "=" "The method at the token endpoint."
    "introspection_endpoint_auth_method" "as `client_auth`" "`client_auth`" "=" "The method at the introspection endpoint."
    "revocation_endpoint_auth_method" "as `client_auth`" "`client_auth`" "=" "The method at the revocation endpoint."
    "tls_client_auth_cert_id" "string" "none" "=" "The client certificate that is offered at the three endpoints: a name in `client_certificates`."
    "token_endpoint_cert_id" "string" "`tls_client_auth_cert_id`" "" "Another one for the token endpoint."
    "introspection_endpoint_cert_id" "string" "`tls_client_auth_cert_id`" "" "Another one for the introspection endpoint."
    "revocation_endpoint_cert_id" "string" "`tls_client_auth_cert_id`" "" "Another one for the revocation endpoint."
    "metadata_cert_id" "string" "none" "" "The client certificate that is offered where metadata and keys are fetched."
    "ssl_trusted_certificate" "string" "those that the host trusts: nginx's `lua_ssl_trusted_certificate`, for the command line the system's" "" "The CA certificates that vouch for the issuer's servers: the path of a PEM file, or PEM. The nginx module has `proxy_ssl_trusted_certificate` for it, and `proxy_connect_timeout` and the like for three of the timeouts ([nginx.md](nginx.md))."
    "tls_client_auth_ssl_verify" "boolean" "`true`" "=" "Whether the server is verified where a client certificate is offered."
    "ssl_verify" "boolean" "`true`" "=" "Whether the server is verified where none is."
    "client_certificates" "object" "none" "" "Client certificates by name: `{\"gateway\": {\"certificate\": ..., \"private_key\": ...}}`, each the path of a PEM file or PEM. A file that changed is used for new connections, without a restart."
    "introspect_jwt_tokens" "boolean" "`false`" "=" "Introspects JWTs too, after they were verified: notices revocation. The issuer of the token is asked; what it says is held to besides what the token says."
    "introspection_accept" "`application/json` or `application/token-introspection+jwt`" "`application/json`" "=" "What the response is to be. A signed one (RFC 9701) is verified with the keys of the issuer; JSON is then not taken."
    "introspection_hint" "string" "`access_token`" "=" "`token_type_hint`; the empty string sends none."
    "introspection_post_args_names" "array of strings" "none" "=" "Further parameters of the introspection request."
    "introspection_post_args_values" "array of strings" "none" "=" "The value of each."
    "introspection_headers_names" "array of strings" "none" "=" "Further headers of the introspection request."
    "introspection_headers_values" "array of strings" "none" "=" "The value of each."
    "introspection_cache_ttl" "number, seconds, 0 to 86400" "`60`" "cache_ttl" "How long an introspection is used, and never beyond `exp`; 0: for one request. So long a revoked token may pass. Binding, `exp` and `nbf` are checked on every request."
    "introspection_cache_ttl_neg" "number, seconds, 0 to 3600" "`5`" "cache_ttl_neg" "How long a token that was refused is refused without asking."
    "rediscovery_lifetime" "number, seconds, 1 to 3600" "`30`" "=" "Keys are fetched at most once in this time for tokens whose key is not there or whose signature is wrong."
    "keys_max_age" "number, seconds, 1 to 604800" "`3600`" "cache_ttl" "Keys and metadata that are older are fetched again; so long a removed key is good."
    "keys_max_stale" "number, seconds, 1 to 2592000" "`86400`" "" "How old keys and metadata may get while they cannot be fetched."
    "timeout" "number, milliseconds, 1 to 60000" "`2000`" "=" "For a whole request to the authorization server."
    "connect_timeout" "number, milliseconds, 1 to 60000" "`500`" "" "For its TCP connection, and again for the TLS handshake."
    "send_timeout" "number, milliseconds, 1 to 60000" "`1000`" "" "Between two writes."
    "read_timeout" "number, milliseconds, 1 to 60000" "`2000`" "" "Between two reads."
    "store_secret" "string, at least 32 characters" "none; with a shared dictionary one is made" "" "The key that seals what workers and nodes share: the same on all of them. Without it nothing is shared. `openssl rand -base64 32` makes one."
    "session_secret" "string, at least 32 characters" "required by `session`" "=" "The key that seals sessions and logins: the same on all nodes. `openssl rand -base64 32` makes one. To replace it, first add the new one to `session_previous_secrets` everywhere, then exchange the two."
    "session_previous_secrets" "array of strings" "none" "" "Other values of `session_secret`, earlier ones above all: what they sealed is accepted until they are removed, and sealed anew when it is used."
    "session_audience" "string" "issuer and `client_id`" "=" "A session is good where `session_secret` and this are the same. In Kong Enterprise all instances with one secret share sessions by default."
    "session_storage" "`cookie` or `store`" "`cookie`" "=" "`cookie`: the tokens are in the cookie, sealed. `store`: they are in the shared store, sealed, and the cookie holds an opaque id; a logout then ends all copies of the cookie at once. Of sessions in cookies, copies end when they would be written anew, within a minute of use. Kong's `redis` is `store` with a store that is a Redis."
    "session_cookie_name" "string" "`__Host-session`" "=" "The cookie's name. Further parts of a large one end in `_2` to `_4`; logins under way have `_login_` and a random part behind it."
    "session_cookie_same_site" "`Strict`, `Lax` or `None`" "`Lax`" "=" "`SameSite` of the session's cookie, which is always `Secure`, `HttpOnly` and of this host alone. `Strict` does not go with `authorization_code`: browsers that come back from the authorization server would not send it."
    "session_rolling_timeout" "number, seconds, 0 to 31536000" "`3600`" "=" "A session is renewed while it is used, when three quarters of this time have passed, and ends when all of it has; 0: no such end."
    "session_idling_timeout" "number, seconds, 0 to 31536000" "`900`" "=" "A session that is not used so long ends; 0: no such end."
    "session_absolute_timeout" "number, seconds, 0 to 31536000" "`86400`" "=" "A session ends after this time, used or not; 0: no such end."
    "session_bind_certificate" "boolean" "`false`" "" "Binds each session to the client certificate of the login's connection: each request of the session must come with it. Without a certificate no session begins, and so nobody logs in, unless `proof_of_possession_mtls` is `optional` and `proof_of_possession_dpop` is not `strict`. Sessions that a bound token of the client began demand its certificate by `proof_of_possession_mtls`, as the token itself."
    "disable_session" "array of methods" "none" "=" "Methods of `auth_methods` that begin no session; `refresh_token` never does, since its client holds the refresh token itself."
    "refresh_tokens" "boolean" "`true`" "=" "Whether a session's access token is refreshed, where the authorization server gave a refresh token."
    "refresh_margin" "number, seconds, 0 to 3600" "`30`" "" "So long before its end an access token is refreshed; a token that lives less than three times as long, in the last third of its life."
    "redirect_uri" "string, `https` URL, or array of one" "required by `authorization_code`" "=" "Where the authorization server sends browsers back to, exactly as it is registered there, without query. It is on the host that browsers see; keybound answers requests for it itself. Requests for another host are not sent to log in."
    "scopes" "array of strings" "`[\"openid\"]`" "=" "What is asked for by `authorization_code`, which needs `openid`, and by `password`; `client_credentials` asks for all of them but `openid` and `offline_access`. Many servers give a refresh token only with `offline_access`."
    "login_timeout" "number, seconds, 60 to 3600" "`600`" "" "How long a login may take."
    "authorization_endpoint" "string, `https` URL" "from the metadata" "=" "The authorization endpoint."
    "authorization_query_args_names" "array of strings" "none" "=" "Further parameters of the authorization request: `resource`, `prompt`, `acr_values` ..."
    "authorization_query_args_values" "array of strings" "none" "=" "The value of each."
    "pushed_authorization_request_endpoint" "string, `https` URL" "from the metadata" "=" "The endpoint for pushed authorization requests (RFC 9126). The gateway authenticates there as at the token endpoint."
    "require_pushed_authorization_requests" "boolean" "what the metadata says" "=" "Whether authorization requests are pushed."
    "token_post_args_names" "array of strings" "none" "=" "Further parameters of token requests of all grants but the gateway's own."
    "token_post_args_values" "array of strings" "none" "=" "The value of each."
    "password_param_type" "array of `header`, `body`" "`[\"header\"]`" "=" "Where the credentials of `password` are: `Authorization: Basic`, or `username` and `password` in the body of a form. Kong takes them from the query, too, where logs see them."
    "client_credentials_param_type" "array of `header`, `body`" "`[\"header\"]`" "=" "Likewise of `client_credentials`: `Authorization: Basic`, or `client_id` and `client_secret`. The header can be of one method only."
    "upstream_client_credentials" "boolean" "`false`" "" "An allowed request goes to the upstream with an access token of the gateway itself (client credentials grant, with the gateway's authentication), in place of what the client sent."
    "upstream_client_credentials_args_names" "array of strings" "none" "" "Further parameters of that token request: `scope`, `resource`, `audience` ..."
    "upstream_client_credentials_args_values" "array of strings" "none" "" "The value of each."
    "end_session_endpoint" "string, `https` URL" "from the metadata, if there is one" "=" "Where a browser that logs out is sent on to, to log out there, too (OpenID Connect RP-Initiated Logout)."
    "logout_uri_suffix" "string" "none" "=" "A request whose path ends so, with one of `logout_methods`, logs out."
    "logout_methods" "array of `GET`, `POST`, `DELETE`" "`[\"POST\", \"DELETE\"]`" "=" "Methods that log out. With `GET` a link does."
    "logout_revoke" "boolean" "`true`" "=" "Whether a logout revokes the session's tokens (RFC 7009)."
    "logout_revoke_access_token" "boolean" "`true`" "=" "Whether the access token is among them."
    "logout_revoke_refresh_token" "boolean" "`true`" "=" "Whether the refresh token is."
    "logout_redirect_uri" "string, `https` URL, or array of one" "none" "=" "Where the browser is in the end. Registered at the authorization server as one of `post_logout_redirect_uris`. Let it be for everybody: behind the gateway it begins a login."
    "upstream_headers_claims" "array of strings or of paths (arrays of strings)" "none" "=" "Claims that the upstream gets as headers. Strings, numbers and booleans as they are, the rest as JSON. A value with control characters, and a number that cannot be told exactly, is not sent."
    "upstream_headers_names" "array of strings" "none" "=" "The header of each of `upstream_headers_claims`. They are removed from the client's request first, on every path."
    "downstream_headers_claims" "array of strings or of paths (arrays of strings)" "none" "=" "Claims of an allowed request that its client gets as headers of the response."
    "downstream_headers_names" "array of strings" "none" "=" "The header of each of `downstream_headers_claims`. One that the upstream sent is replaced where the token has the claim, and else left as it is."
    "hide_credentials" "boolean" "`false`" "=" "An allowed request goes to the upstream without its `Authorization` header; without this it has the access token there, also that of a session or a grant. Credentials in the body of a form go on in any case. Kong hides by default and then sends the token again in `upstream_access_token_header`: the upstream sees it in both."
    "report_only" "boolean" "`false`" "" "For rolling out, not with `dpop_use_nonce`: what would be refused passes, without claims and headers of its own, and is logged and counted (`decision=\"report\"`) with its reason. Of an engine: a verifier tells its decision all the same."
    "realm" "string" "none" "" "`realm` of the challenge."
    "unauthorized_error_message" "string" "`Unauthorized`" "=" "`message` of the JSON body of a 401."
    "forbidden_error_message" "string" "`Forbidden`" "=" "`message` of the JSON body of a 403."
    "expose_error_code" "boolean" "`true`" "=" "Whether the challenge holds `error` and `scope`."
    "display_errors" "boolean" "`false`" "=" "Tells the client the reason ([reasons.md](reasons.md)): as `reason` of the JSON body, and as `error_description` where the challenge has an `error`."
    "token_cache_entries" "number, 0 to 1000000" "`4096`" "" "Verified tokens that are remembered, per engine, rounded up to a power of two of at least 8; 0: none."
    "token_cache_bytes" "number, bytes, 0 to 1073741824" "`8388608`" "" "Memory of the remembered tokens, per engine."
}

/// The options that an object of `issuers_allowed` may have, besides [`OF_CLIENT`].
pub(super) const OF_ISSUER: &[&str] = &[
    "issuer",
    "jwks",
    "jwks_uri",
    "audience_required",
    "audience_claim",
    "insecure_any_audience",
    "endpoint_hosts",
    "client_id",
    "metadata_cert_id",
    "ssl_trusted_certificate",
    "tls_client_auth_ssl_verify",
    "ssl_verify",
];

/// Of those, the ones that are about the gateway as a client: without `client_id` they have no effect.
pub(super) const OF_CLIENT: &[&str] = &[
    "introspection_post_args_names",
    "introspection_post_args_values",
    "introspection_headers_names",
    "introspection_headers_values",
    "client_auth",
    "client_secret",
    "client_jwk",
    "client_alg",
    "token_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "mtls_token_endpoint",
    "mtls_introspection_endpoint",
    "mtls_revocation_endpoint",
    "token_endpoint_auth_method",
    "introspection_endpoint_auth_method",
    "revocation_endpoint_auth_method",
    "tls_client_auth_cert_id",
    "token_endpoint_cert_id",
    "introspection_endpoint_cert_id",
    "revocation_endpoint_cert_id",
];

/// A refused configuration. The message names the option and the valid values; of what was given it holds names at the most.
#[derive(Debug)]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn no_randomness() -> ConfigError {
        ConfigError("the system has no randomness".into())
    }

    pub(crate) fn new(name: &str, what: impl fmt::Display) -> ConfigError {
        ConfigError(format!("{name}: {what}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Kong has arrays of these, an entry for each of its clients.
const OF_ONE: [&str; 7] =
    ["client_id", "client_auth", "client_secret", "client_alg", "client_jwk", "redirect_uri", "logout_redirect_uri"];

/// A claim that goes on as a header.
pub(crate) struct ClaimHeader {
    pub(crate) name: Box<str>,
    pub(crate) path: Vec<String>,
}

/// A checked configuration.
pub struct Config {
    pub(crate) rules: Rules,
    /// Of each issuer of the rules.
    pub(crate) servers: Vec<ServerSetup>,
    pub(crate) tls: Vec<TlsProfile>,
    pub(crate) bearer: bool,
    pub(crate) introspection: bool,
    pub(crate) introspect_jwt: bool,
    pub(crate) logins: Option<Logins>,
    pub(crate) dpop: Option<Dpop>,
    pub(crate) timeouts: Timeouts,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) store_secret: Option<String>,
    pub(crate) headers: Headers,
    pub(crate) report_only: bool,
    pub(crate) realm: Option<String>,
    pub(crate) unauthorized_message: String,
    pub(crate) forbidden_message: String,
    pub(crate) expose_error_code: bool,
    pub(crate) display_errors: bool,
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
        let members = members(text)?;
        let all: Vec<&str> = OPTIONS.iter().map(|o| o.name).collect();
        Options::new(members, String::new(), &all)?.config()
    }
}

/// The members of a configuration.
pub(super) fn members(text: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, ConfigError> {
    json::members(text).map_err(|e| ConfigError(format!("the configuration is not a JSON object: {e}")))
}

pub(super) struct Options<'a> {
    members: Vec<(String, &'a RawValue)>,
    /// Where these options are, in front of a name in a message.
    prefix: String,
}

impl<'a> Options<'a> {
    pub(super) fn new(
        members: Vec<(Cow<'a, str>, &'a RawValue)>,
        prefix: String,
        valid: &[&str],
    ) -> Result<Options<'a>, ConfigError> {
        let members = members.into_iter().map(|(name, value)| match only(&prefix, &name, value) {
            Ok(value) => Ok((name.into_owned(), value)),
            Err(e) => Err(e),
        });
        let options = Options { members: members.collect::<Result<_, _>>()?, prefix };
        match options.members.iter().find(|(name, _)| !valid.contains(&name.as_str())) {
            Some((name, _)) => Err(options.unknown(name, valid)),
            None => Ok(options),
        }
    }

    fn unknown(&self, name: &str, valid: &[&str]) -> ConfigError {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
        let nearest = valid
            .iter()
            .map(|valid| (strsim::damerau_levenshtein(valid, &name), valid))
            .min()
            .filter(|(distance, nearest)| *distance <= nearest.len().div_euclid(3));
        let prefix = &self.prefix;
        ConfigError(match nearest {
            Some((_, nearest)) => format!("{prefix}{name}: unknown option; did you mean {nearest}?"),
            None => format!("{prefix}{name}: unknown option; the options are {}", valid.join(", ")),
        })
    }

    pub(super) fn error<T>(&self, name: &str, what: impl fmt::Display) -> Result<T, ConfigError> {
        Err(ConfigError::new(&format!("{}{name}", self.prefix), what))
    }

    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|(n, _)| n == name).map(|(_, value)| value.get())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    pub(super) fn value(&self, name: &str) -> Result<Option<Value<'a>>, ConfigError> {
        match self.raw(name) {
            None => Ok(None),
            Some(raw) => match json::parse(raw.as_bytes()) {
                Ok(value) => Ok(Some(value)),
                Err(e) => self.error(name, e),
            },
        }
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match self.value(name)? {
            None => Ok(None),
            Some(Value::Str(s)) if !s.is_empty() => Ok(Some(s.into_owned())),
            Some(Value::Str(_)) => self.error(name, "must not be empty"),
            Some(other) => self.error(name, format_args!("must be a string, not {}", other.kind())),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        match self.value(name)? {
            None => Ok(OPTIONS.iter().any(|o| o.name == name && o.default == "`true`")),
            Some(Value::Bool(b)) => Ok(b),
            Some(other) => self.error(name, format_args!("must be true or false, not {}", other.kind())),
        }
    }

    pub(super) fn number(&self, name: &str, default: i64, valid: RangeInclusive<i64>) -> Result<i64, ConfigError> {
        let number = match self.value(name)? {
            None => return Ok(default),
            Some(Value::Int(n)) => Some(n),
            // Lua and some JSON encoders write whole numbers as floats.
            Some(Value::Float(n)) if n.fract() == 0.0 && n.abs() < 1e15 => Some(n as i64),
            Some(_) => None,
        };
        match number {
            Some(n) if valid.contains(&n) => Ok(n),
            _ => self.error(name, format_args!("must be a whole number from {} to {}", valid.start(), valid.end())),
        }
    }

    /// A non-empty array of non-empty strings.
    pub(super) fn strings(&self, name: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        match string_array(&value) {
            Some(strings) => Ok(Some(strings)),
            None => self.error(name, "must be an array of at least one string, none of them empty"),
        }
    }

    /// A secret, and others that are accepted besides; `None` where there is none.
    pub(super) fn secrets(&self, name: &str, previous: &str) -> Result<Option<Vec<Zeroizing<String>>>, ConfigError> {
        let Some(secret) = self.string(name)? else {
            return Ok(None);
        };
        let others = self.strings(previous)?.unwrap_or_default();
        let secrets: Vec<_> = std::iter::once(secret).chain(others).map(Zeroizing::new).collect();
        if secrets.len() > MAX_SECRETS {
            return self.error(previous, format_args!("at most {} entries", MAX_SECRETS.saturating_sub(1)));
        }
        match secrets.iter().position(|secret| secret.len() < MIN_SECRET) {
            Some(place) => self.error(
                if place == 0 { name } else { previous },
                format_args!("must have at least {MIN_SECRET} characters (openssl rand -base64 32)"),
            ),
            None => Ok(Some(secrets)),
        }
    }

    /// The entries of an array that may hold more than strings, as text. A schema that has no room for anything else (Kong's) gives such an
    /// entry as a string of its JSON, which begins with `opens`. What is no array has none.
    pub(super) fn entries(&self, name: &str, opens: char) -> Result<Option<Vec<Cow<'a, RawValue>>>, ConfigError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let entries: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
        if entries.len() > json::MAX_MEMBERS {
            return self.error(name, format_args!("must have at most {} entries", json::MAX_MEMBERS));
        }
        let text = |(i, entry): (usize, &'a RawValue)| match serde_json::from_str::<String>(entry.get()) {
            Ok(text) if text.starts_with(opens) => {
                json::raw(text).map(Cow::Owned).or_else(|e| self.error(&format!("{name}[{i}]"), e))
            }
            _ => Ok(Cow::Borrowed(entry)),
        };
        entries.into_iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A non-empty array of arrays of strings, or of strings that `split` makes arrays of. `expected` says so.
    fn lists(
        &self,
        name: &str,
        split: impl Fn(&str) -> Option<Vec<String>>,
        expected: &str,
    ) -> Result<Option<Vec<Vec<String>>>, ConfigError> {
        let Some(entries) = self.entries(name, '[')? else {
            return Ok(None);
        };
        let mut lists = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let list = match json::parse(entry.get().as_bytes()) {
                Ok(Value::Str(text)) => split(&text),
                Ok(other) => string_array(&other),
                Err(e) => return self.error(&format!("{name}[{i}]"), e),
            };
            let Some(list) = list else {
                return self.error(name, expected);
            };
            lists.push(list);
        }
        if lists.is_empty() { self.error(name, expected) } else { Ok(Some(lists)) }
    }

    fn rule(
        &self,
        required: &str,
        claim: &str,
        default_claim: &str,
        words: Words,
    ) -> Result<Option<Rule>, ConfigError> {
        let path = self.strings(claim)?;
        const EXPECTED: &str = "must be an array of at least one string, or of arrays of strings with spaces";
        let split = |text: &str| Some(text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect());
        let Some(required_words) = self.lists(required, split, EXPECTED)? else {
            return match path {
                Some(_) => self.error(claim, format_args!("has no effect without {required}")),
                None => Ok(None),
            };
        };
        // An entry of spaces only would ask for nothing, and so pass everybody.
        if required_words.iter().any(Vec::is_empty) {
            return self.error(required, "an entry holds no word");
        }
        Ok(Some(Rule { path: path.unwrap_or_else(|| vec![default_claim.to_owned()]), required: required_words, words }))
    }

    /// The text of an option that is an object, or a string of one.
    pub(super) fn document(&self, name: &str) -> Result<Option<Cow<'a, str>>, ConfigError> {
        match self.raw(name) {
            Some(raw) if raw.starts_with('"') => match serde_json::from_str::<String>(raw) {
                Ok(text) => Ok(Some(Cow::Owned(text))),
                Err(_) => self.error(name, "not a valid string"),
            },
            raw => Ok(raw.map(Cow::Borrowed)),
        }
    }

    pub(super) fn keys(&self) -> Result<Option<(JwkSet, Vec<SkippedKey>)>, ConfigError> {
        const NAME: &str = "jwks";
        let Some(text) = self.document(NAME)? else {
            return Ok(None);
        };
        if self.is_set("jwks_uri") {
            return self.error("jwks_uri", "contradicts jwks: keys are configured or fetched");
        }
        JwkSet::parse(text.as_bytes()).map(Some).or_else(|e| self.error(NAME, e))
    }

    pub(super) fn audience(&self) -> Result<Option<Rule>, ConfigError> {
        let rule = self.rule("audience_required", "audience_claim", "aud", Words::Whole)?;
        match (rule, self.boolean("insecure_any_audience")?) {
            (Some(_), true) => self.error("insecure_any_audience", "contradicts audience_required"),
            (None, false) => self.error(
                "audience_required",
                "required: without it a token for another service of the issuer would pass; set insecure_any_audience to true if that is meant",
            ),
            (rule, _) => Ok(rule),
        }
    }

    pub(super) fn algorithms(&self, name: &str) -> Result<Option<Vec<Algorithm>>, ConfigError> {
        let Some(names) = self.strings(name)? else {
            return Ok(None);
        };
        match names.iter().map(|n| Algorithm::from_name(n)).collect() {
            Some(known) => Ok(Some(known)),
            None => {
                let all: Vec<&str> = Algorithm::ALL.iter().map(|a| a.name()).collect();
                self.error(name, format_args!("must be of {}", all.join(", ")))
            }
        }
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
        names
            .iter()
            .map(typ)
            .collect::<Option<_>>()
            .map_or_else(|| self.error(NAME, "must be of at+jwt, JWT, none"), Ok)
    }

    /// The claims that go on as headers; `own` are the names that mean something else in that direction.
    fn claim_headers(&self, direction: &str, own: &[&str]) -> Result<Vec<ClaimHeader>, ConfigError> {
        // They say where a message ends, and of what connection it is.
        const FRAMING: [&str; 5] = ["connection", "content-length", "transfer-encoding", "upgrade", "te"];
        let (claims, names_option) = (format!("{direction}_headers_claims"), format!("{direction}_headers_names"));
        let names = self.strings(&names_option)?.unwrap_or_default();
        let path = |name: &str| (!name.is_empty()).then(|| vec![name.to_owned()]);
        let expected = "must be an array of claim names, or of arrays that are paths";
        let paths = self.lists(&claims, path, expected)?.unwrap_or_default();
        if paths.len() != names.len() {
            return self.error(&names_option, format_args!("must have one name for each entry of {claims}"));
        }
        if names.len() > MAX_CLAIM_HEADERS {
            return self.error(&names_option, format_args!("must have at most {MAX_CLAIM_HEADERS} entries"));
        }
        for (i, name) in names.iter().enumerate() {
            if !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
                return self.error(&names_option, "a header name is made of letters, digits and hyphens");
            }
            if FRAMING.iter().chain(own).any(|reserved| name.eq_ignore_ascii_case(reserved)) {
                return self.error(&names_option, format_args!("{name} cannot be set from a claim"));
            }
            if names.iter().take(i).any(|n| n.eq_ignore_ascii_case(name)) {
                return self.error(&names_option, format_args!("{name} occurs twice"));
            }
        }
        Ok(names.into_iter().zip(paths).map(|(name, path)| ClaimHeader { name: name.into(), path }).collect())
    }

    fn headers(&self) -> Result<Headers, ConfigError> {
        // Those of the connection, and those that a request is decided from: what is set from claims is removed before that.
        const REQUEST: [&str; 6] = ["authorization", "host", "expect", "keep-alive", "proxy-connection", "trailer"];
        let request: Vec<_> = REQUEST.into_iter().chain(HEADERS.map(|(name, _)| name)).collect();
        const RESPONSE: [&str; 12] = [
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "trailer",
            "location",
            "content-encoding",
            "content-range",
            "content-type",
            "set-cookie",
            "www-authenticate",
            "dpop-nonce",
            "cache-control",
        ];
        Ok(Headers {
            upstream: self.claim_headers("upstream", &request)?,
            downstream: self.claim_headers("downstream", &RESPONSE)?,
            hide_credentials: self.boolean("hide_credentials")?,
        })
    }

    fn auth_methods(&self) -> Result<Vec<Method>, ConfigError> {
        const NAME: &str = "auth_methods";
        let Some(names) = self.strings(NAME)? else {
            let introspection = self.is_set("client_id").then_some(Method::Introspection);
            return Ok([Method::Bearer].into_iter().chain(introspection).collect());
        };
        names.iter().map(|name| Method::from_name(name)).collect::<Option<_>>().map_or_else(
            || {
                let all: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
                self.error(NAME, format_args!("must be of {}", all.join(", ")))
            },
            Ok,
        )
    }

    fn realm(&self) -> Result<Option<String>, ConfigError> {
        let realm = self.string("realm")?;
        // quoted-string without escapes (RFC 9110 §5.6.4).
        if realm.as_deref().is_some_and(|r| r.bytes().any(|c| !matches!(c, 0x20..=0x7e) || c == b'"' || c == b'\\')) {
            return self.error("realm", "must be printable ASCII without quote and backslash");
        }
        Ok(realm)
    }

    fn scopes(&self) -> Result<Option<Rule>, ConfigError> {
        let scopes = self.rule("scopes_required", "scopes_claim", "scope", Words::Spaced)?;
        // They are written into the challenge (RFC 6750 §3).
        let bad = |w: &String| w.bytes().any(|c| !matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if scopes.iter().any(|rule| rule.required.iter().flatten().any(bad)) {
            return self.error(
                "scopes_required",
                "a scope is made of printable ASCII without quote and backslash (RFC 6749 §3.3)",
            );
        }
        Ok(scopes)
    }

    fn timeouts(&self) -> Result<Timeouts, ConfigError> {
        let timeout =
            |name, default| self.number(name, default, 1..=MAX_TIMEOUT).map(|n| u32::try_from(n).unwrap_or(0));
        Ok(Timeouts {
            connect: timeout("connect_timeout", 500)?,
            send: timeout("send_timeout", 1000)?,
            read: timeout("read_timeout", 2000)?,
            total: timeout("timeout", 2000)?,
        })
    }

    fn store_secret(&self) -> Result<Option<String>, ConfigError> {
        const NAME: &str = "store_secret";
        match self.string(NAME)? {
            Some(secret) if secret.len() < 32 => self.error(NAME, "must have at least 32 characters"),
            secret => Ok(secret),
        }
    }

    fn report_only(&self) -> Result<bool, ConfigError> {
        const NAME: &str = "report_only";
        match self.boolean(NAME)? {
            true if self.boolean("dpop_use_nonce")? => {
                self.error(NAME, "contradicts dpop_use_nonce: a client that is not refused gets no nonce")
            }
            is_set => Ok(is_set),
        }
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let lifetime = |name, default, max| self.number(name, default, 1..=max);
        let lifetimes = Lifetimes {
            max_age: lifetime("keys_max_age", 3600, 7 * 86_400)?,
            max_stale: lifetime("keys_max_stale", 86_400, 30 * 86_400)?,
            cool_down: lifetime("rediscovery_lifetime", 30, 3600)?,
        };
        if lifetimes.max_stale < lifetimes.max_age {
            return self.error("keys_max_stale", "must not be less than keys_max_age");
        }
        let algorithms = self.algorithms("algorithms")?.unwrap_or_else(|| Algorithm::ALL.to_vec());
        let possession = proof::policy(self)?;
        let methods = self.auth_methods()?;
        let logins = Logins::of(self, &methods, possession)?;
        let (bearer, introspection) = (methods.contains(&Method::Bearer), methods.contains(&Method::Introspection));
        let introspect_jwt = self.boolean("introspect_jwt_tokens")?;
        if introspect_jwt && !(introspection && bearer) {
            return self
                .error("introspect_jwt_tokens", "needs bearer and introspection in auth_methods, and client_id");
        }
        if !bearer && self.is_set("issuers_allowed") {
            return self.error(
                "issuers_allowed",
                "needs bearer in auth_methods: the first issuer alone is asked about other tokens",
            );
        }
        if !introspection {
            const NEEDS: [&str; 4] = [
                "introspection_accept",
                "introspection_hint",
                "introspection_cache_ttl",
                "introspection_cache_ttl_neg",
            ];
            if let Some(name) = NEEDS.iter().find(|name| self.is_set(name)) {
                return self.error(name, "has no effect: nothing is introspected without client_id and auth_methods");
            }
        }
        let mut tls = TlsProfiles::of(self)?;
        let asked = Asked::of(self, algorithms.clone())?;
        let (mut issuers, mut servers, mut skipped_keys) = (Vec::new(), Vec::new(), Vec::new());
        for parsed in servers::all(self, &mut tls, &asked, bearer || logins.is_some() || asked.is_signed())? {
            if introspect_jwt && parsed.setup.client.is_none() {
                return self.error(
                    "introspect_jwt_tokens",
                    format_args!(
                        "the issuer {} has no client_id: its tokens could not be introspected",
                        parsed.setup.issuer
                    ),
                );
            }
            issuers.push(parsed.issuer);
            servers.push(parsed.setup);
            skipped_keys.extend(parsed.skipped_keys);
        }
        let size = |name, default, max| self.number(name, default, 0..=max).map(|n| usize::try_from(n).unwrap_or(0));
        Ok(Config {
            rules: Rules {
                policy: Policy {
                    issuers,
                    algorithms,
                    types: self.token_types()?,
                    claims_forbidden: self.strings("claims_forbidden")?,
                    claims_required: self.strings("claims_required")?,
                    headers: HeaderMemo::default(),
                },
                possession,
                has_sessions: logins.as_ref().is_some_and(|logins| logins.sessions.is_some()),
                certificate_validity: self.boolean("client_certificate_validity")?,
                leeway: self.number("leeway", 0, 0..=MAX_LEEWAY)?,
                scopes: self.scopes()?,
                groups: self.rule("groups_required", "groups_claim", "groups", Words::Spaced)?,
                roles: self.rule("roles_required", "roles_claim", "roles", Words::Spaced)?,
            },
            servers,
            tls: tls.finish(self)?,
            bearer,
            introspection,
            introspect_jwt,
            logins,
            dpop: Dpop::of(self, possession)?,
            timeouts: self.timeouts()?,
            lifetimes,
            store_secret: self.store_secret()?,
            headers: self.headers()?,
            report_only: self.report_only()?,
            realm: self.realm()?,
            unauthorized_message: self.string("unauthorized_error_message")?.unwrap_or_else(|| "Unauthorized".into()),
            forbidden_message: self.string("forbidden_error_message")?.unwrap_or_else(|| "Forbidden".into()),
            expose_error_code: self.boolean("expose_error_code")?,
            display_errors: self.boolean("display_errors")?,
            cache_entries: size("token_cache_entries", 4096, MAX_CACHE_ENTRIES)?,
            cache_bytes: size("token_cache_bytes", 8 << 20, MAX_CACHE_BYTES)?,
            skipped_keys,
        })
    }
}

/// The value of an option of [`OF_ONE`], taken out of its array.
fn only<'a>(prefix: &str, name: &str, value: &'a RawValue) -> Result<&'a RawValue, ConfigError> {
    if !OF_ONE.contains(&name) || !value.get().starts_with('[') {
        return Ok(value);
    }
    match serde_json::from_str::<Vec<&RawValue>>(value.get()).as_deref() {
        Ok([one]) => Ok(*one),
        _ => Err(ConfigError::new(
            &format!("{prefix}{name}"),
            "an array must have exactly one entry: keybound has one client for each issuer (issuers_allowed has others)",
        )),
    }
}

pub(super) fn string_array(value: &Value<'_>) -> Option<Vec<String>> {
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
         Where an entry of an array may be an object (`issuers_allowed`) or an array (`audience_required`, `scopes_required`,\n\
         `groups_required`, `roles_required`, `upstream_headers_claims`, `downstream_headers_claims`), a string that begins with `{` or\n\
         `[` is the JSON of it: for hosts that have strings only, as Kong.\n\n\
         *Per issuer*: an object of `issuers_allowed` may have it, too. *Kong*: the name of the option in Kong Enterprise's\n\
         `openid-connect` plugin; = for the same name.\n\n\
         | option | type | default | per issuer | Kong | meaning |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for option in OPTIONS {
        let per_issuer = if [OF_ISSUER, OF_CLIENT].concat().contains(&option.name) { "yes" } else { "" };
        let kong = match option.kong {
            "" | "=" => option.kong.to_owned(),
            other => format!("`{other}`"),
        };
        text.push_str(&format!(
            "| `{}` | {} | {} | {per_issuer} | {kong} | {} |\n",
            option.name, option.kind, option.default, option.meaning
        ));
    }
    text
}
