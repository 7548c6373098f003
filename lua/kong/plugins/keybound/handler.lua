--- keybound for Kong: lets a request through only if its access token is bound to the client certificate of its
-- connection (RFC 8705), or to a key that the client proves to have (RFC 9449).
--
-- What is decided, and why, is the engine's business; here is what it means in Kong.

local claims = require "kong.plugins.keybound.claims"
local engines = require "kong.plugins.keybound.engines"
local entities = require "kong.plugins.keybound.entities"
local keybound = require "resty.keybound"
local plugin = require "kong.plugins.keybound.options"

local ipairs = ipairs
local kong = kong
local ngx = ngx
local null = ngx.null
local pairs = pairs
local type = type

local Keybound = {
  -- Above what asks who the client is (acl 950, rate-limiting 910), as the plugin of Kong Enterprise.
  PRIORITY = 1050,
  -- Kong takes three numbers and nothing behind them.
  VERSION = keybound._VERSION:match("^%d+%.%d+%.%d+"),
}

local THUMBPRINT = { "cnf", "x5t#S256" }

-- Of this worker: whether a global instance asks in the handshake, and what has been warned of.
local asks_in_handshake, has_warned = false, false


--- The instance's engine, and what else is made of its configuration.
local function instance_of(conf)
  local instance, err = engines.instance(conf, entities.certificate)
  if err then
    kong.log.err(err)
  end
  return instance
end


-- Headers for the upstream.

local function set_header(name, value)
  if value == nil or value == null then
    kong.service.request.clear_header(name)
  else
    kong.service.request.set_header(name, value)
  end
end


--- Tells the upstream who Kong takes the client for; all else under these names is removed.
local function set_identity()
  local consumer, credential = kong.client.get_consumer(), kong.client.get_credential()
  set_header("X-Consumer-ID", consumer and consumer.id)
  set_header("X-Consumer-Custom-ID", consumer and consumer.custom_id)
  set_header("X-Consumer-Username", consumer and consumer.username)
  set_header("X-Credential-Identifier", credential and credential.id)
  set_header("X-Anonymous-Consumer", consumer and not credential and "true" or nil)
end


--- Whatever comes of the request: what the client sent under these names does not reach the upstream.
local function clear_headers(instance)
  keybound.clear_headers(instance.headers)
  set_identity()
end


--- Tells the upstream the certificate that the token is bound to. Of another one nothing is known but that the client
-- has its key: anybody makes himself one with any name in it.
local function set_certificate_headers(instance, token)
  for variable, name in pairs(instance.certificate_headers) do
    local thumbprint = claims.at(token, THUMBPRINT)
    if thumbprint then
      set_header(name, variable == "thumbprint" and thumbprint or ngx.var[variable])
    end
  end
end


-- Answers.

local function fail(message)
  kong.log.err(message)
  return kong.response.exit(500, { message = "An unexpected error occurred" })
end


--- Whether this listener asks its clients for a certificate.
local function is_asked()
  local asked = keybound.asks_certificate()
  if asked ~= nil then
    return asked
  end
  -- Plain HTTP, or Kong 3.4, whose nginx does not show it.
  if kong.request.get_scheme() ~= "https" then
    return false
  end
  for _, directive in ipairs(kong.configuration.nginx_proxy_directives or {}) do
    if directive.name == "ssl_verify_client" then
      return directive.value ~= "off"
    end
  end
  return asks_in_handshake
end


--- Says once what whoever has set up a new gateway wonders about.
local function warn_of_listener()
  if not has_warned and not is_asked() then
    has_warned = true
    kong.log.warn("this listener never asks its clients for a certificate: enable the plugin globally, or set ",
                  "nginx_proxy_ssl_verify_client = optional_no_ca in kong.conf; plain HTTP has no certificates")
  end
end


local function log_refusal(what, decision)
  -- What a logout could not revoke is for the operator.
  local is_usual = what == "answered" and not (decision.reason == "logged_out" and decision.detail)
  local log = is_usual and kong.log.notice or kong.log.warn
  log(what, ", reason=", decision.reason, ", status=", decision.status or "-", ", token=",
      decision.token_id or "-", decision.detail and ", detail=" or "", decision.detail or "")
  if decision.reason == "certificate_missing" or decision.reason == "session_certificate_missing" then
    warn_of_listener()
  end
end


--- Adds cookies to those that are set already, whatever comes of the request; others do not see them.
local function add_cookies(decision)
  local cookies = decision.response_headers["set-cookie"]
  decision.response_headers["set-cookie"] = nil
  for _, cookie in ipairs(cookies or {}) do
    kong.response.add_header("Set-Cookie", cookie)
  end
end


--- Lets a refused request through as the anonymous consumer, where that is configured. Never where the client did not
-- prove that the token is its own, unless the operator said so by name; and who is somebody already stays it.
-- @treturn boolean
local function is_anonymous(conf, decision)
  if not conf.anonymous or decision.status ~= 401 or (decision.binding and not conf.anonymous_on_failed_binding) then
    return false
  end
  -- Without a token, what is in this header is of another plugin.
  if conf.hide_credentials and decision.reason ~= "no_token" then
    keybound.clear_headers(plugin.CREDENTIALS)
  end
  -- What was not good enough here, the upstream does not see.
  set_header("Cookie", plugin.other_cookies(conf, kong.request.get_header("cookie")))
  if kong.client.get_credential() then
    return true
  end
  local consumer, err = entities.consumer(conf.anonymous)
  if not consumer then
    fail("the consumer of anonymous cannot be had: " .. (err or conf.anonymous .. " is not there"))
    return false
  end
  kong.client.authenticate(consumer, nil)
  set_identity()
  return true
end


local function refuse(instance, decision)
  if is_anonymous(instance.options, decision) then
    kong.log.notice("anonymous, reason=", decision.reason, ", token=", decision.token_id or "-")
    decision.response_headers = {}
    return
  end
  log_refusal(decision.status < 400 and "answered" or "refused", decision)  -- below 400 a login begins or ends
  for name, value in pairs(decision.response_headers) do
    kong.response.set_header(name, value)
  end
  return kong.response.exit(decision.status, decision.body, {
    ["WWW-Authenticate"] = decision.www_authenticate,
    ["Retry-After"] = decision.retry_after,
    ["Content-Type"] = decision.content_type,
    ["Cache-Control"] = "no-store",
  })
end


--- For the phases that follow, and for plugins that want to know.
local function remember(decision)
  kong.ctx.plugin.decision = decision
  kong.ctx.shared.keybound = decision
end


--- Refuses for a reason that only Kong knows.
local function refuse_for(instance, reason)
  local decision, err = instance.engine:refusal(reason)
  if not decision then
    return fail(err)
  end
  remember(decision)
  if decision.reported then
    return log_refusal("reported", decision)
  end
  return refuse(instance, decision)
end


--- Makes the request that of its consumer.
local function allow(instance, decision)
  local conf = instance.options
  local token, consumer, err = decision.claims, nil, nil
  if not token then
    return fail("the claims cannot be read")
  end
  if decision.detail then
    kong.log.notice("note, detail=", decision.detail)
  end
  if conf.consumer_claim then
    local name = claims.text(claims.at(token, conf.consumer_claim))
    if name then
      consumer, err = entities.named_consumer(name, conf.consumer_by)
    end
    if err then
      return fail("the consumer cannot be looked up: " .. err)
    end
    if not consumer and not conf.consumer_optional then
      return refuse_for(instance, "consumer_not_found")
    end
  end
  local id = conf.credential_claim and claims.text(claims.at(token, conf.credential_claim))
  -- A consumer of an earlier plugin stays where this one has none to put in its place; an anonymous one does not.
  if consumer or (id and not kong.client.get_credential()) then
    kong.client.authenticate(consumer, { id = id or consumer.id })
  end
  set_identity()
  if conf.authenticated_groups_claim then
    kong.ctx.shared.authenticated_groups = claims.list(claims.at(token, conf.authenticated_groups_claim))
  end
  set_certificate_headers(instance, token)
  for name, value in pairs(decision.headers) do
    if value then
      set_header(name, value)
    else
      keybound.clear_headers { name }
    end
  end
  remember(decision)
end


--- Whether a header that may come once came more often: Kong shows the first only, and none behind a hundred others.
-- Where proofs are taken the engine counts them.
local function is_repeated(name)
  if not ngx.var["http_" .. name] then
    return false
  end
  local headers, err = kong.request.get_headers(1000)
  return err ~= nil or type(headers[name]) == "table"
end


--- A CORS preflight; browsers send no token with it.
local function is_preflight()
  return kong.request.get_method() == "OPTIONS" and kong.request.get_header("origin") ~= nil
         and kong.request.get_header("access-control-request-method") ~= nil
end


-- Phases.

--- Since Kong 3.5: whoever configures something that cannot be used reads it in the log at once.
function Keybound:configure(configs)
  for _, conf in ipairs(configs or {}) do
    instance_of(conf)
  end
end


function Keybound:certificate(conf)
  asks_in_handshake = plugin.uses_certificates(conf) or conf.session_bind_certificate == true
  if asks_in_handshake then
    local ok, err = kong.client.tls.request_client_certificate()
    if not ok then
      kong.log.err("the client cannot be asked for its certificate: ", err)
    end
  end
end


function Keybound:access(conf)
  local instance = instance_of(conf)
  if not instance then
    return fail("no request is let through")
  end
  clear_headers(instance)
  if not instance.options.run_on_preflight and is_preflight() then
    if instance.options.hide_credentials then
      keybound.clear_headers(plugin.CREDENTIALS)
    end
    return
  end
  if not plugin.takes_proofs(instance.options) and is_repeated("dpop") then
    return refuse_for(instance, "duplicate_header")
  end
  local decision, err = instance.engine:decide()
  if not decision then
    return fail(err)
  end
  add_cookies(decision)
  if decision.reason == "allowed" then
    return allow(instance, decision)
  end
  remember(decision)
  if decision.reported then
    return log_refusal("reported", decision)
  end
  return refuse(instance, decision)
end


function Keybound:header_filter(conf)
  local decision = kong.ctx.plugin.decision
  local headers = decision and decision.response_headers or {}
  if conf.dpop_use_nonce == true and not headers["dpop-nonce"] then
    kong.response.clear_header("DPoP-Nonce")  -- one of the upstream's, good for nothing here
  end
  for name, value in pairs(decision and decision.allowed and headers or {}) do
    kong.response.set_header(name, value)
  end
end


function Keybound:log()
  local decision = kong.ctx.plugin.decision
  kong.log.set_serialize_value("keybound", decision and {
    allowed = decision.allowed, reason = decision.reason, token = decision.token_id,
  })
  -- Kong itself leaves out Authorization only.
  kong.log.set_serialize_value("request.headers.dpop", "REDACTED", { mode = "replace" })
end


return Keybound
