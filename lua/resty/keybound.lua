--- keybound for OpenResty: lets a request through only if its access token is bound to the client certificate of its
-- connection (RFC 8705), or to a key that the client proves to have (RFC 9449).
--
--     -- init_by_lua_block
--     local keybound = require "resty.keybound"
--     kb = assert(keybound.new({ issuer = ..., jwks = ..., audience_required = { ... } }))
--
--     -- access_by_lua_block
--     kb:access()

local fetch = require "resty.keybound.fetch"
local library = require "resty.keybound.library"
local metrics = require "resty.keybound.metrics"
local request = require "resty.keybound.request"
local steps = require "resty.keybound.steps"
local store = require "resty.keybound.store"
local base = require "resty.core.base"
local bit = require "bit"
local cjson = require "cjson.safe"
local ffi = require "ffi"
local resp = require "ngx.resp"

local C = library.constants
local lib = library.lib
local string_of = library.string_of

-- Of its own: others may have changed the limits of the shared one.
local own_json = cjson.new()

local add_header = resp.add_header
local band = bit.band
local ffi_copy = ffi.copy
local ffi_gc = ffi.gc
local ffi_new = ffi.new
local ffi_str = ffi.string
local get_request = base.get_request
local encode_base64 = ngx.encode_base64
local clear_headers = request.clear_headers
local has_stray_proof = request.has_stray_proof
local is_internal = ngx.req.is_internal
local keep = request.keep
local restore_headers = request.restore_headers
local set_header = ngx.req.set_header
local error = error
local format = string.format
local io_open = io.open
local ipairs = ipairs
local pairs = pairs
local rawset = rawset
local setmetatable = setmetatable
local tonumber = tonumber
local tostring = tostring
local type = type
local next = next
local ngx = ngx
local ngx_log = ngx.log
local ERR = ngx.ERR
local NOTICE = ngx.NOTICE
local WARN = ngx.WARN

local STEP_ALLOW = C.STEP_ALLOW
local STEP_RESPOND = C.STEP_RESPOND
local ALLOWED = C.REASON_ALLOWED
local CERTIFICATE_REFUSED = C.REASON_CERTIFICATE_REFUSED
-- What only the host can find wrong.
local OF_HOST = {
  certificate_refused = CERTIFICATE_REFUSED,
  consumer_not_found = C.REASON_CONSUMER_NOT_FOUND,
  duplicate_header = C.REASON_DUPLICATE_HEADER,
}
local WANT_CLAIMS = C.WANT_CLAIMS
-- Of an engine that is not to report.
local NOT_ALLOWED = "a step that allows, for a reason that does not"
local ERRBUF_SIZE = 4096
local NO_STORE = "store: required for logins, sessions and proofs: what all workers must know of them is kept there"
-- For a check: the real one is made with the store.
local ANY_SECRET = ("x"):rep(32)
-- Of response headers the one that is added to what there is.
local SET_COOKIE = "set-cookie"
local REFRESH_TOKEN = "refresh-token"
local NONCE = "dpop-nonce"
local PROOF = { "dpop" }

local engine_ptr_t = ffi.typeof("kb_engine *[1]")
local bytes_t = ffi.typeof("uint8_t[?]")
local size_t = ffi.typeof("size_t[1]")
local thumbprint_t = ffi.typeof("uint8_t[1][$]", C.THUMBPRINT_SIZE)

-- Scratch: filled and read without a yield between.
local facts = request.facts
local decision = ffi_new("kb_decision")
decision.struct_size = ffi.sizeof("kb_decision")
local str = ffi_new("kb_str")
local str2 = ffi_new("kb_str")
local response = ffi_new("kb_response")

-- A closure, not the C function: a finalizer that is a C function can run after its library object was collected.
local function free_engine(ptr) lib.kb_engine_free(ptr) end
local function free_check(ptr) lib.kb_check_free(ptr) end

local _M = { _VERSION = library.version }
local mt = { __index = _M }

-- What the Lua side takes, besides the engine's configuration.
local OPTIONS = {
  ctx = "boolean",                 -- access() leaves the decision in ngx.ctx.keybound; default true
  certificate_source = "string",   -- "ssl" (default where it can be had) or "variable"
  store = "string or table",       -- name of a lua_shared_dict, or { redis = ... }: what workers share
  metrics = "string",              -- name of a lua_shared_dict: where workers add up what they count
}
local OPTION_NAMES = "certificate_source, ctx, metrics and store"


--- Reads every element that a function of (engine, index, out) gives.
local function list(f, ptr)
  local items = {}
  while f(ptr, #items, str) == C.OK do
    items[#items + 1] = string_of(str)
  end
  return items
end


local function check_options(opts)
  for name, value in pairs(opts) do
    local expected = OPTIONS[name]
    if not expected then
      return nil, "keybound.new: " .. tostring(name) .. ": unknown option of the Lua side; it has " .. OPTION_NAMES
    end
    if not expected:find(type(value), 1, true) then
      return nil, "keybound.new: " .. name .. ": must be a " .. expected
    end
  end
  return true
end


--- The secret that seals what is in a shared dictionary. Who reads the dictionary reads the secret, too: it is there so
-- that all workers, and those after a reload, have the same.
local function secret_of(dict)
  local name = "keybound:store_secret"
  local secret = dict:get(name)
  if secret then
    return secret
  end
  local file, err = io_open("/dev/urandom", "rb")
  if not file then
    return nil, err
  end
  secret = encode_base64(file:read(32))
  file:close()
  local ok
  ok, err = dict:safe_add(name, secret)
  if ok then
    return secret
  end
  return dict:get(name), err
end


--- The configuration as JSON, and as a table.
-- @treturn string|nil
-- @treturn nil|string message
-- @treturn table|nil
local function read_config(config)
  if type(config) == "table" then
    local err
    config, err = cjson.encode(config)
    if not config then
      return nil, "the configuration is not JSON: " .. err
    end
  elseif type(config) ~= "string" then
    return nil, "expect a table or a JSON string at #1"
  end
  local decoded, err = own_json.decode(config)
  if type(decoded) ~= "table" then
    return nil, "the configuration is not a JSON object" .. (err and ": " .. err or "")
  end
  return config, nil, decoded
end


--- Into the text: a table that was decoded would not be encoded as it was.
local function with_secret(config, decoded, secret)
  local comma = next(decoded) ~= nil and "," or ""
  return (config:gsub("^%s*{", '{"store_secret":"' .. secret .. '"' .. comma, 1))
end


--- The configuration with a secret for the store that was asked for.
-- @treturn string|nil
-- @treturn nil|string message
-- @treturn table|nil store
local function prepare_config(config, decoded, opts)
  local has_secret = decoded.store_secret ~= nil
  if opts.store == nil then
    if has_secret then
      return nil, "store_secret: has no effect without the option store of the Lua side"
    end
    return config
  end
  if opts.store == opts.metrics then
    return nil, "metrics: must be another zone than store, where nothing may be displaced"
  end
  local shared, err = store.new(opts.store)
  if not shared then
    return nil, err
  end
  if has_secret then
    return config, nil, shared
  end
  if not shared.dict then
    return nil, "store_secret: required with redis: what is kept there is sealed with it (openssl rand -base64 32)"
  end
  local secret
  secret, err = secret_of(shared.dict)
  if not secret or not secret:find("^[%w+/=]+$") then
    return nil, "store: no secret can be made: " .. tostring(err)
  end
  return with_secret(config, decoded, secret), nil, shared
end


--- The option that a message of the library is about, or a path to it: `issuers_allowed[1].issuer`.
local function option_of(message)
  local path, what = message:match("^([^:]*): (.*)$")
  local behind = path and path:match("^%l[%l%d_]*(.*)$")
  if not behind or what:find("^unknown option") then
    return nil
  end
  return (behind == "" or behind:find("^[[.]")) and path or nil
end


--- Makes an engine of the library. One that needs a store is not made without.
-- @treturn cdata|nil
-- @treturn nil|string message
-- @treturn number|nil what it needs
local function make_engine(config, has_store)
  local out, errbuf, errlen = engine_ptr_t(), bytes_t(ERRBUF_SIZE), size_t()
  local rc = lib.kb_engine_new(config, #config, out, errbuf, ERRBUF_SIZE, errlen)
  if rc ~= C.OK then
    local err = library.message_of(rc, errbuf, ERRBUF_SIZE, errlen)
    return nil, not has_store and option_of(err) == "store_secret" and NO_STORE or err
  end
  local ptr = ffi_gc(out[0], free_engine)
  local needs = lib.kb_engine_needs(ptr)
  if not has_store and band(needs, C.NEEDS_STORE) ~= 0 then
    return nil, NO_STORE
  end
  return ptr, nil, needs
end


--- Makes an engine. Call it in init_by_lua or init_worker_by_lua and keep the result.
-- @tparam table|string config the configuration (docs/configuration.md), as a table or as JSON
-- @tparam[opt] table opts `ctx` (boolean, default true): access() leaves the decision in `ngx.ctx.keybound`;
--   `certificate_source` ("ssl" or "variable"): where the certificate is read from;
--   `store` (name of a `lua_shared_dict`, or `{ redis = ... }`, see resty.keybound.store): what workers share;
--   `metrics` (name of a `lua_shared_dict`): where workers add up what they count, for `metrics()`
-- @treturn table|nil engine
-- @treturn nil|string message that names the option and the valid values
function _M.new(config, opts)
  opts = opts or {}
  if type(opts) ~= "table" then
    return nil, "keybound.new: expect a table at #2"
  end
  local ok, err = check_options(opts)
  if not ok then
    return nil, err
  end
  local decoded, shared
  config, err, decoded = read_config(config)
  if config then
    config, err, shared = prepare_config(config, decoded, opts)
  end
  if not config then
    return nil, "keybound.new: " .. err
  end
  local fill, source_err = request.filler(opts.certificate_source)
  if not fill then
    return nil, "keybound.new: " .. source_err
  end

  local ptr, needs
  ptr, err, needs = make_engine(config, shared ~= nil)
  if not ptr then
    return nil, "keybound.new: " .. err
  end
  local has_logins, takes_proofs = band(needs, C.NEEDS_LOGIN) ~= 0, band(needs, C.NEEDS_PROOF) ~= 0
  local for_filter = decoded.downstream_headers_names and "downstream_headers_names"
                     or decoded.dpop_use_nonce == true and "dpop_use_nonce"
  if for_filter and opts.ctx == false then
    return nil, "keybound.new: ctx: must not be false with " .. for_filter .. ": header_filter() needs it"
  end
  for _, warning in ipairs(list(lib.kb_engine_warning, ptr)) do
    ngx_log(WARN, "keybound: ", warning)
  end
  local headers = list(lib.kb_engine_upstream_header, ptr)
  local self = setmetatable({
    ptr = ptr,
    fill = request.with_needs(fill, needs),
    store = shared,
    headers = headers,
    has_request_headers = #headers > 0 or decoded.hide_credentials == true or has_logins or takes_proofs,
    has_response_headers = for_filter and true or has_logins,
    -- Whether there may be something for the log.
    has_detail = has_logins or decoded.insecure_dpop_replay == true,
    takes_proofs = takes_proofs,
    gives_nonces = band(needs, C.NEEDS_FILTER) ~= 0,
    report_only = lib.kb_engine_report_only(ptr) == 1,
    flags = opts.ctx == false and 0 or WANT_CLAIMS,
  }, mt)
  ok, err = fetch.prepare(self)
  if ok and opts.metrics then
    ok, err = metrics.prepare(self, opts.metrics)
  end
  if not ok then
    return nil, "keybound.new: " .. err
  end
  return self
end


--- Says whether a configuration is one, and keeps nothing. No file is read and no store is looked for.
-- @tparam table|string config as for `new`
-- @tparam[opt] table opts as for `new`, if there is more to it than the configuration: whether there is a `store`
-- @treturn true|nil
-- @treturn nil|string message
-- @treturn nil|string the option that it is about, or a path to it, where it is about one
function _M.check(config, opts)
  local text, err, decoded = read_config(config)
  if not text then
    return nil, err
  end
  local has_store = not opts or opts.store ~= nil
  if opts and has_store and decoded.store_secret == nil then
    text = with_secret(text, decoded, ANY_SECRET)
  end
  local ptr
  ptr, err = make_engine(text, has_store)
  if not ptr then
    return nil, err, option_of(err)
  end
  lib.kb_engine_free(ffi_gc(ptr, nil))
  return true
end


--- Sees to it that what is counted gets into the zone.
local function publish(self)
  if self.counters then
    metrics.keep_publishing(self)
  end
end


--- Decides about the current request; what is decided is left in `decision`.
-- @return 0, or the status of a failed call
local function decide(self, flags)
  local r = get_request()
  if not r then
    error("keybound: no request found")
  end
  self.fill(r)
  facts.flags = facts.flags + flags
  return lib.kb_engine_decide(self.ptr, facts, decision)
end


-- The decision as the application sees it; the claims are decoded when they are asked for.
local decision_mt = {
  __index = function(self, name)
    if name ~= "claims" then
      return nil
    end
    local claims = cjson.decode(ffi_str(self.json, self.json_len))
    rawset(self, "claims", claims)
    return claims
  end,
}


--- The claims of an allowed check, copied into memory that the garbage collector sees. It does not see the
-- library's, and would let a worker with a large heap keep thousands of checks.
-- Not a Lua string: `request.lua` says why.
local function granted(check)
  if lib.kb_check_claims(check, str) ~= C.OK then
    return nil
  end
  local json_len = tonumber(str.len)
  local json = bytes_t(json_len)
  ffi_copy(json, str.ptr, json_len)
  return setmetatable({ allowed = true, reason = "allowed", json = json, json_len = json_len }, decision_mt)
end


--- The headers for the client, and the detail for the log, that a check has.
-- @treturn table name to value; "set-cookie" to an array of values
-- @treturn string|nil
local function said_of(check)
  local headers, i = {}, 0
  while lib.kb_check_response_header(check, i, str, str2) == C.OK do
    local name, value = string_of(str), string_of(str2)
    if name == SET_COOKIE then
      local cookies = headers[name] or {}
      cookies[#cookies + 1] = value
      value = cookies
    end
    headers[name] = value
    i = i + 1
  end
  return headers, lib.kb_check_detail(check, str) == C.OK and string_of(str) or nil
end


--- Takes a refusal over into a table. One without an answer is only reported.
-- @param check or nil, where there is no more to say
local function refusal(reason, answer, token_id, check)
  local result = {
    allowed = not answer,
    reason = ffi_str(lib.kb_reason_code(reason)),
    binding = lib.kb_reason_is_binding(reason) == 1,
    token_id = token_id ~= 0 and format("%08x", token_id) or nil,
  }
  result.response_headers = {}
  if check then
    result.response_headers, result.detail = said_of(check)
  end
  if not answer then
    result.reported = true
    return result
  end
  result.status = answer.status
  result.www_authenticate = string_of(answer.www_authenticate)
  result.retry_after = answer.retry_after_s > 0 and answer.retry_after_s or nil
  result.content_type = string_of(answer.content_type)
  result.body = string_of(answer.body)
  return result
end


--- The headers for the upstream.
-- @return a table of name to value, or to false where the header is to be removed
local function headers_of(check)
  local headers, i = {}, 0
  while lib.kb_check_header(check, i, str, str2) == C.OK do
    headers[string_of(str)] = string_of(str2) or false
    i = i + 1
  end
  return headers
end


--- Takes claims and headers out of the check of an allowed request, as far as they are wanted, and frees it.
-- @return claims, headers for the upstream, headers for the client, and the detail, which comes with the last
local function take(check, want_claims, want_request_headers, want_response_headers)
  local result = want_claims and granted(check) or nil
  local headers = want_request_headers and headers_of(check) or nil
  local response_headers, detail
  if want_response_headers then
    response_headers, detail = said_of(check)
  end
  lib.kb_check_free(check)
  return result, headers, response_headers, detail
end


--- The refusal in `decision`, or what is only reported. A check comes with it where there is more to say.
local function refused_at_once()
  local answer = decision.step == STEP_RESPOND and decision.response or nil
  local check = decision.check ~= nil and decision.check or nil
  decision.check = nil
  local result = refusal(decision.reason, answer, decision.token_id, check)
  if check then
    lib.kb_check_free(check)
  end
  return result
end


--- Takes the steps that a decision needs: it yields, and `decision` is another request's afterwards.
-- @treturn cdata|nil the check of an allowed request
-- @treturn table|nil the refusal, or what is only reported
-- @treturn nil|string message where no decision was made
local function go_on(self)
  local check, token_id = ffi_gc(decision.check, free_check), decision.token_id
  decision.check = nil
  local step, err = steps.run(self, check)
  publish(self)
  local reason = lib.kb_check_reason(check)
  local answer
  if step == STEP_ALLOW then
    if reason == ALLOWED then
      return ffi_gc(check, nil)
    end
    if not self.report_only then
      return nil, nil, NOT_ALLOWED
    end
  elseif step ~= STEP_RESPOND then
    return nil, nil, err
  elseif lib.kb_check_response(check, response) ~= C.OK then
    return nil, nil, "there is no answer to the refusal"
  else
    answer = response
  end
  return nil, refusal(reason, answer, token_id, check)
end


--- What decide() gives of a request that is not allowed. One that is only reported goes on without what its client
-- sent under the names of upstream headers.
local function not_allowed(self, result)
  if result.reported then
    result.headers = {}
    for _, name in ipairs(self.headers) do
      result.headers[name] = false
    end
  end
  return result
end


--- Decides about the current request without acting on it. It may yield: call it where nginx's cosockets are allowed.
-- @treturn table|nil `{ allowed, reason, claims, headers, response_headers, detail }` of an allowed request;
--   `{ allowed = false, reason, binding, status, www_authenticate, retry_after, content_type, body, response_headers,
--   token_id, detail }` of a refused one, and with a status below 400 of one that is answered: a login begins or ends;
--   `{ allowed = true, reported = true, reason, binding, headers, response_headers, token_id, detail }` of one that
--   passes by `report_only`.
--   `headers` has false for what is to be removed; of `response_headers`, `set-cookie` is an array of values, to be
--   added to those that there are
-- @treturn nil|string message where no decision was made; that is a refusal
function _M:decide()
  publish(self)
  local rc = decide(self, WANT_CLAIMS)
  if rc ~= C.OK then
    return nil, "keybound.decide: " .. library.strerror(rc)
  end
  local check, refused, err
  if decision.step == STEP_RESPOND or decision.step == STEP_ALLOW and decision.reason ~= ALLOWED then
    refused = refused_at_once()
    if refused.reported and not self.report_only then
      return nil, "keybound.decide: " .. NOT_ALLOWED
    end
  elseif decision.step == STEP_ALLOW then
    check, decision.check = decision.check, nil
  elseif decision.check ~= nil then
    check, refused, err = go_on(self)
  end
  if refused then
    return not_allowed(self, refused)
  end
  if not check then
    return nil, "keybound.decide: " .. (err or "a step that this host cannot take")
  end
  local result, headers, response_headers, detail = take(check, true, true, true)
  if not result then
    return nil, "keybound.decide: the claims cannot be read"
  end
  if self.takes_proofs and has_stray_proof() then
    headers.dpop = false
  end
  result.headers, result.response_headers, result.detail = headers, response_headers, detail
  return result
end


local function fail(message)
  ngx_log(ERR, "keybound: ", message)
  return ngx.exit(500)
end


--- Logs a refusal or an answer, or what is only reported, and leaves it in ngx.ctx.
local function note(self, result)
  local level, what = WARN, "refused"
  if result.reported then
    what = "reported"
  elseif result.status < 400 then
    -- What a logout could not revoke is for the operator.
    level, what = result.reason == "logged_out" and result.detail and WARN or NOTICE, "answered"
  end
  ngx_log(level, "keybound: ", what, ", reason=", result.reason,
          result.status and ", status=" or "", result.status or "", ", token=", result.token_id or "-",
          ", request_id=", ngx.var.request_id, result.detail and ", detail=" or "", result.detail or "")
  if self.flags ~= 0 then
    ngx.ctx.keybound = result
  end
end


--- Adds cookies to those that are set already, and tells the client its next refresh token and nonce. Nobody else sees
-- cookies and tokens, and they are not added twice.
local function add_own(headers)
  local cookies, token = headers[SET_COOKIE], headers[REFRESH_TOKEN]
  headers[SET_COOKIE], headers[REFRESH_TOKEN] = nil, nil
  for _, cookie in ipairs(cookies or {}) do
    add_header("Set-Cookie", cookie)
  end
  if token then
    ngx.header["Refresh-Token"] = token
  end
  if headers[NONCE] then
    ngx.header["DPoP-Nonce"] = headers[NONCE]
  end
  if token or headers[NONCE] then
    ngx.header["Cache-Control"] = "no-store"
  end
end


--- Answers the request with a refusal; one that is only reported goes on.
local function refuse(self, result)
  note(self, result)
  if result.reported then
    return
  end
  ngx.status = result.status
  local header = ngx.header
  add_own(result.response_headers)
  for name, value in pairs(result.response_headers) do
    header[name] = value
  end
  header["WWW-Authenticate"] = result.www_authenticate
  header["Retry-After"] = result.retry_after
  header["Content-Type"] = result.content_type
  header["Content-Length"] = #result.body
  header["Cache-Control"] = "no-store"
  ngx.print(result.body)
  return ngx.exit(result.status)
end


--- Keeps a proof from the upstream, which nobody looked at.
local function strip_proof(self)
  if self.takes_proofs and has_stray_proof() then
    clear_headers(PROOF)
  end
end


--- Lets the request of an allowed check go on: with its claims, and its headers set or removed.
-- @tparam[opt] string spent of `kb_check_spent()`
local function allow(self, check, spent)
  local result, values, response_headers, detail =
    take(check, self.flags ~= 0, self.has_request_headers, self.has_response_headers or self.has_detail)
  if self.flags ~= 0 then
    if not result then
      return fail("the claims cannot be read")
    end
    result.response_headers = response_headers
    ngx.ctx.keybound = result
  end
  if detail then
    ngx_log(NOTICE, "keybound: note, request_id=", ngx.var.request_id, ", detail=", detail)
  end
  if response_headers then
    add_own(response_headers)
  end
  if values then
    keep(values, spent)
    for name, value in pairs(values) do
      if value then
        set_header(name, value)
      else
        clear_headers { name }
      end
    end
  end
  strip_proof(self)
end


--- What is seldom: a decision that needs the authorization server or the store.
local function access_by_steps(self)
  local check, refused, err = go_on(self)
  if refused then
    return refuse(self, refused)
  end
  if not check then
    return fail(err)
  end
  -- Without a step no store has noted a proof.
  local spent = self.takes_proofs and lib.kb_check_spent(check, str) == C.OK and string_of(str) or nil
  return allow(self, check, spent)
end


--- Lets the current request go on, or answers it. Call it in access_by_lua.
--
-- The decision is left in `ngx.ctx.keybound` (`allowed`, `reason`, `claims`, `response_headers`) unless the option
-- `ctx` is false.
function _M:access()
  if self.has_request_headers and is_internal() then
    restore_headers()
  end
  clear_headers(self.headers)
  publish(self)
  local rc = decide(self, self.flags)
  if rc ~= 0 then
    return fail(library.strerror(rc))
  end
  local step = decision.step
  if step == STEP_ALLOW then
    if decision.reason ~= ALLOWED then
      if not self.report_only then
        return fail(NOT_ALLOWED)
      end
      return refuse(self, refused_at_once())
    end
    local check = decision.check
    if check == nil then
      return strip_proof(self)
    end
    decision.check = nil
    return allow(self, check)
  end
  if step == STEP_RESPOND then
    return refuse(self, refused_at_once())
  end
  if decision.check == nil then
    return fail("a step that this host cannot take")
  end
  return access_by_steps(self)
end


--- Sends the claims of an allowed request to its client, as the headers of `downstream_headers_names`, and its next
-- nonce in the place of any other. Call it in header_filter_by_lua. Headers without a value stay as the upstream sent
-- them.
function _M:header_filter()
  if not self.has_response_headers then
    return
  end
  local header = ngx.header
  if self.gives_nonces then
    -- One of the upstream's would be good for nothing here.
    header["DPoP-Nonce"] = nil
  end
  local result = ngx.ctx.keybound
  local values = result and result.response_headers
  if not values then
    return
  end
  for name, value in pairs(values) do
    header[name] = value
  end
end


--- Answers the request with what was counted in a zone, as an OpenMetrics page. Call it in content_by_lua of a location
-- that only your monitoring reaches.
-- @tparam string zone name of the `lua_shared_dict` that engines were made with as `metrics`
_M.metrics = metrics.page


--- Answers a request whose client certificate nginx itself refused. Call it in access_by_lua of the location that
-- `error_page 495 496` names: nginx's verdict stands, with `report_only` too, and the client gets the answer that it
-- gets for other tokens.
function _M:refuse_certificate()
  clear_headers(self.headers)
  publish(self)
  if lib.kb_engine_response(self.ptr, CERTIFICATE_REFUSED, response) ~= C.OK then
    return fail("there is no answer to a refused certificate")
  end
  return refuse(self, refusal(CERTIFICATE_REFUSED, response, 0))
end


--- A refusal for what the application itself found wrong, as `decide()` gives it; it is counted.
-- @tparam string reason "certificate_refused", "consumer_not_found" or "duplicate_header" (docs/reasons.md)
-- @treturn table|nil `{ allowed = false, ... }`, or with `report_only` `{ allowed = true, reported = true, ... }`
-- @treturn nil|string message
function _M:refusal(reason)
  local number = OF_HOST[reason]
  if not number then
    return nil, "keybound.refusal: " .. tostring(reason) .. " is no reason of the application's"
  end
  local rc = lib.kb_engine_response(self.ptr, number, response)
  if rc ~= C.OK then
    return nil, "keybound.refusal: " .. library.strerror(rc)
  end
  return not_allowed(self, refusal(number, not self.report_only and response or nil, 0))
end


--- Removes headers from the request, and those that an application may take for them: `X_User` for `X-User`.
-- @tparam {string,...} names
_M.clear_headers = clear_headers


--- Whether the connection of the current request asks its client for a certificate, or has asked.
-- @treturn boolean|nil nil where that cannot be told, as over plain HTTP
_M.asks_certificate = request.asks_certificate


--- The x5t#S256 thumbprint of a certificate (RFC 8705 §3.1).
-- @tparam string cert PEM as `$ssl_client_raw_cert` gives it, or DER
-- @treturn string|nil 43 characters of base64url
-- @treturn nil|string message
function _M.thumbprint(cert)
  if type(cert) ~= "string" then
    return nil, "keybound.thumbprint: expect a string at #1"
  end
  local form = cert:sub(1, 5) == "-----" and C.CERT_PEM or C.CERT_DER
  local out = thumbprint_t()
  local rc = lib.kb_certificate_thumbprint(cert, #cert, form, out)
  if rc ~= C.OK then
    return nil, "keybound.thumbprint: " .. library.strerror(rc)
  end
  return ffi_str(out[0])
end


return _M
