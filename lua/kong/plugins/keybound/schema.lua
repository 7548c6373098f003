--- The configuration of the plugin, in the form of Kong's schemas.
--
-- Names, types and defaults are those of the engine (docs/configuration.md), a test compares them. What a field alone
-- does not tell is checked by the engine itself, when the configuration is written.

local typedefs = require "kong.db.schema.typedefs"

local require = require


local AUTH_METHODS = {
  "session", "bearer", "introspection", "refresh_token", "password", "client_credentials", "authorization_code",
}
local METHODS = {
  "tls_client_auth", "self_signed_tls_client_auth", "client_secret_basic", "client_secret_post", "client_secret_jwt",
  "private_key_jwt", "none",
}
local ALGORITHMS = { "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA" }
local CLIENT_ALGORITHMS = {
  "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
}
local MODES = { "strict", "optional", "off" }
local ACCEPT = { "application/json", "application/token-introspection+jwt" }

local text = { type = "string" }
local method = { type = "string", one_of = METHODS }
local auth_method = { type = "string", one_of = AUTH_METHODS }
local place = { type = "string", one_of = { "header", "body" } }
local secret = { type = "string", referenceable = true, encrypted = true }


local function boolean(default)
  return { type = "boolean", default = default }
end


local function integer(least, most, default)
  return { type = "integer", between = { least, most }, default = default }
end


local function array(elements, default)
  return { type = "array", elements = elements, default = default }
end


--- An array in Kong Enterprise, which has several clients; keybound has one for each issuer.
local function one(elements)
  return { type = "array", elements = elements, len_max = 1 }
end


local function header(default)
  return typedefs.header_name { default = default }
end


--- Deferred: whoever only wants to see the fields needs no library.
local function validate(config)
  return require("kong.plugins.keybound.check")(config)
end


local fields = {
  -- Tokens, and whom they are believed of.
  { issuer = { type = "string", required = true, referenceable = true } },
  { jwks = text },
  { jwks_uri = text },
  { audience_required = array(text) },
  { audience_claim = array(text, { "aud" }) },
  { insecure_any_audience = boolean(false) },
  { issuers_allowed = array(text) },
  { endpoint_hosts = array(text) },
  { auth_methods = array(auth_method) },
  { proof_of_possession_mtls = { type = "string", one_of = MODES } }, -- its default depends on the next one
  { proof_of_possession_dpop = { type = "string", one_of = MODES, default = "off" } },
  { proof_of_possession_either = boolean(false) },
  { dpop_algorithms = array(text, { "ES256", "PS256", "EdDSA" }) },
  { dpop_proof_lifetime = integer(1, 3600, 60) },
  { dpop_proof_leeway = integer(0, 60, 5) },
  { dpop_use_nonce = boolean(false) },
  { dpop_nonce_secret = secret },
  { dpop_nonce_previous_secrets = array(secret) },
  { public_origin = array(text) },
  { public_path_prefix = text },
  { trusted_ips = array(text) },
  { upstream_dpop_as_bearer = boolean(true) },
  { insecure_dpop_replay = boolean(false) },
  { proof_of_possession_auth_methods_validation = boolean(true) },
  { client_certificate_validity = boolean(false) },
  { report_only = boolean(false) },
  { algorithms = array { type = "string", one_of = ALGORITHMS } },
  { token_types = array({ type = "string", one_of = { "at+jwt", "JWT", "none" } }, { "at+jwt" }) },
  { claims_forbidden = array(text) },
  { claims_required = array(text) },
  { leeway = integer(0, 60, 0) },
  { scopes_required = array(text) },
  { scopes_claim = array(text, { "scope" }) },
  { groups_required = array(text) },
  { groups_claim = array(text, { "groups" }) },
  { roles_required = array(text) },
  { roles_claim = array(text, { "roles" }) },

  -- The gateway as a client of the authorization server.
  { client_id = one { type = "string", referenceable = true, encrypted = true } },
  { client_auth = one(method) },
  { client_secret = one(secret) },
  { client_jwk = one(secret) },
  { client_alg = one { type = "string", one_of = CLIENT_ALGORITHMS } },
  { token_endpoint = text },
  { introspection_endpoint = text },
  { revocation_endpoint = text },
  { mtls_token_endpoint = text },
  { mtls_introspection_endpoint = text },
  { mtls_revocation_endpoint = text },
  { token_endpoint_auth_method = method },
  { introspection_endpoint_auth_method = method },
  { revocation_endpoint_auth_method = method },
  -- The id of a Certificate entity of Kong, or a name in client_certificates.
  { tls_client_auth_cert_id = text },
  { token_endpoint_cert_id = text },
  { introspection_endpoint_cert_id = text },
  { revocation_endpoint_cert_id = text },
  { metadata_cert_id = text },
  { client_certificates = {
      type = "map",
      keys = text,
      values = {
        type = "record",
        fields = {
          { certificate = { type = "string", required = true, referenceable = true } },
          { private_key = { type = "string", required = true, referenceable = true, encrypted = true } },
        },
      },
  } },
  { ssl_trusted_certificate = text },
  { tls_client_auth_ssl_verify = boolean(true) },
  { ssl_verify = boolean(true) },
  { introspect_jwt_tokens = boolean(false) },
  { introspection_accept = { type = "string", one_of = ACCEPT, default = ACCEPT[1] } },
  { introspection_hint = { type = "string", len_min = 0, default = "access_token" } },
  { introspection_post_args_names = array(text) },
  { introspection_post_args_values = array(secret) },
  { introspection_headers_names = array(text) },
  { introspection_headers_values = array(secret) },
  { introspection_cache_ttl = integer(0, 86400, 60) },
  { introspection_cache_ttl_neg = integer(0, 3600, 5) },
  { rediscovery_lifetime = integer(1, 3600, 30) },
  { keys_max_age = integer(1, 604800, 3600) },
  { keys_max_stale = integer(1, 2592000, 86400) },
  { timeout = integer(1, 60000, 2000) },
  { connect_timeout = integer(1, 60000, 500) },
  { send_timeout = integer(1, 60000, 1000) },
  { read_timeout = integer(1, 60000, 2000) },
  { store_secret = secret },

  -- Logins and sessions.
  { session_secret = secret },
  { session_previous_secrets = array(secret) },
  { session_audience = text },
  { session_storage = { type = "string", one_of = { "cookie", "store" }, default = "cookie" } },
  { session_cookie_name = { type = "string", default = "__Host-session" } },
  { session_cookie_same_site = { type = "string", one_of = { "Strict", "Lax", "None" }, default = "Lax" } },
  { session_rolling_timeout = integer(0, 31536000, 3600) },
  { session_idling_timeout = integer(0, 31536000, 900) },
  { session_absolute_timeout = integer(0, 31536000, 86400) },
  { session_bind_certificate = boolean(false) },
  { disable_session = array(auth_method) },
  { refresh_tokens = boolean(true) },
  { refresh_margin = integer(0, 3600, 30) },
  { redirect_uri = one(text) },
  { scopes = array(text, { "openid" }) },
  { login_timeout = integer(60, 3600, 600) },
  { authorization_endpoint = text },
  { authorization_query_args_names = array(text) },
  { authorization_query_args_values = array(secret) },
  { pushed_authorization_request_endpoint = text },
  { require_pushed_authorization_requests = boolean() },
  { token_post_args_names = array(text) },
  { token_post_args_values = array(secret) },
  { password_param_type = array(place, { "header" }) },
  { client_credentials_param_type = array(place, { "header" }) },
  { upstream_client_credentials = boolean(false) },
  { upstream_client_credentials_args_names = array(text) },
  { upstream_client_credentials_args_values = array(secret) },
  { end_session_endpoint = text },
  { logout_uri_suffix = text },
  { logout_methods = array({ type = "string", one_of = { "GET", "POST", "DELETE" } }, { "POST", "DELETE" }) },
  { logout_revoke = boolean(true) },
  { logout_revoke_access_token = boolean(true) },
  { logout_revoke_refresh_token = boolean(true) },
  { logout_redirect_uri = one(text) },

  -- What upstream and client get.
  { upstream_headers_claims = array(text) },
  { upstream_headers_names = array(typedefs.header_name) },
  { downstream_headers_claims = array(text) },
  { downstream_headers_names = array(typedefs.header_name) },
  { hide_credentials = boolean(false) },
  { realm = text },
  { unauthorized_error_message = { type = "string", default = "Unauthorized" } },
  { forbidden_error_message = { type = "string", default = "Forbidden" } },
  { expose_error_code = boolean(true) },
  { display_errors = boolean(false) },
  { token_cache_entries = integer(0, 1000000, 4096) },
  { token_cache_bytes = integer(0, 1073741824, 8388608) },

  -- From here on not the engine's: what the plugin does in Kong (docs/kong.md).
  { shared_dict = text },
  { redis = {
      type = "record",
      fields = {
        { host = typedefs.host },
        { port = typedefs.port },
        { unix = text },
        { username = { type = "string", referenceable = true } },
        { password = secret },
        { database = { type = "integer" } },
        { ssl = { type = "boolean" } },
        { ssl_verify = { type = "boolean" } },
        { server_name = text },
        { connect_timeout = { type = "integer" } },
        { timeout = { type = "integer" } },
        { pool_size = { type = "integer" } },
        { keepalive = { type = "integer" } },
        { prefix = { type = "string", len_min = 0 } },
      },
  } },
  { metrics_dict = text },
  { certificate_source = { type = "string", one_of = { "ssl", "variable" } } },
  { run_on_preflight = boolean(true) },
  { consumer_claim = array(text) },
  { consumer_by = array({ type = "string", one_of = { "id", "username", "custom_id" } }, { "username", "custom_id" }) },
  { consumer_optional = boolean(false) },
  { credential_claim = array(text, { "sub" }) },
  { authenticated_groups_claim = array(text) },
  { anonymous = text },
  { anonymous_on_failed_binding = boolean(false) },
  { inject_client_cert_details = boolean(false) },
  { client_cert_header_name = header "X-Client-Cert" },
  { client_serial_header_name = header "X-Client-Cert-Serial" },
  { client_cert_issuer_dn_header_name = header "X-Client-Cert-Issuer-DN" },
  { client_cert_subject_dn_header_name = header "X-Client-Cert-Subject-DN" },
  { client_cert_fingerprint_header_name = header "X-Client-Cert-Fingerprint" },
  { client_cert_thumbprint_header_name = header "X-Client-Cert-Thumbprint" },
}


return {
  name = "keybound",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = { type = "record", fields = fields, custom_validator = validate } },
  },
}
