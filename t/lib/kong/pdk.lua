--- The functions of Kong's Plugin Development Kit that the plugin calls, each in the phases where Kong has it, with the
-- checks of arguments that Kong makes. Any other name raises an error.

local cache = require "kong.cache"
local log = require "kong.log"
local schema = require "kong.schema"
local strict = require "kong.strict"
local tls = require "kong.tls"
local vault = require "kong.vault"
local cjson = require "cjson"

local char = string.char
local concat = table.concat
local coroutine_yield = coroutine.yield
local error = error
local find = string.find
local format = string.format
local gmatch = string.gmatch
local gsub = string.gsub
local insert = table.insert
local ipairs = ipairs
local lower = string.lower
local match = string.match
local ngx = ngx
local pairs = pairs
local pcall = pcall
local rawset = rawset
local req = ngx.req
local setmetatable = setmetatable
local tonumber = tonumber
local tostring = tostring
local type = type
local unpack = unpack
local upper = string.upper

local REQUEST = "rewrite, access, response, header_filter, body_filter, log, error, admin_api"
local RESPONSE = "rewrite, access, response, header_filter, error, admin_api"
local ANSWERED = "response, header_filter, body_filter, log, error, admin_api"
local AUTHENTICATED = "access, response, header_filter, body_filter, log"
local WITH_CTX = "rewrite, access, response, header_filter, body_filter, log, admin_api"
local IN_PLUGIN = "certificate, rewrite, access, balancer, response, header_filter, body_filter, log"
local MAX_HEADERS = 1000
local VERSIONS = { ["3.4"] = "3.4.2", ["3.9"] = "3.9.0" }

local _M = {}


--- Where the request is: "admin_api" where Kong runs no phase but somebody's content.
local function current_phase()
  local ok, ctx = pcall(function() return ngx.ctx end)
  return ok and ctx.KONG_PHASE or ngx.get_phase() == "content" and "admin_api"
end


local function check_phase(names)
  local phase = current_phase()
  if not phase then
    error("no phase in ngx.ctx.KONG_PHASE, (need one of " .. names .. ")", 3)
  end
  if not find(", " .. names .. ",", ", " .. phase .. ",", 1, true) then
    error(format("function cannot be called in %s phase (only in: %s)", phase, names), 3)
  end
end


local function within(names, f)
  return function(...)
    check_phase(names)
    return f(...)
  end
end


local function expect(ok, message, ...)
  if not ok then
    error(format(message, ...), 3)
  end
end


-- --- kong.request

--- The headers as Kong gives them: name to value, or to a table of values.
local function get_headers(max)
  if max ~= nil then
    expect(type(max) == "number", "max_headers must be a number")
    expect(max >= 1, "max_headers must be >= 1")
    expect(max <= MAX_HEADERS, "max_headers must be <= %d", MAX_HEADERS)
  end
  return req.get_headers(max or 100)
end


--- A path without what has two spellings: dot segments, doubled slashes, encoded unreserved characters.
local function normalized(path)
  path = gsub(path, "%%(%x%x)", function(hex)
    local c = char(tonumber(hex, 16))
    return find(c, "[%w%-._~]") and c or "%" .. upper(hex)
  end)
  local segments = {}
  for segment in gmatch(path, "[^/]+") do
    if segment == ".." then
      segments[#segments] = nil
    elseif segment ~= "." then
      insert(segments, segment)
    end
  end
  local slash = find(path, "/%.?%.?$") and #segments > 0 and "/" or ""
  return "/" .. concat(segments, "/") .. slash
end


local function raw_path() return match(ngx.var.request_uri, "^[^?]*") end


local function request(host)
  --- What a trusted proxy says, else what is the case.
  local function forwarded(header, own)
    local value = host.trusted and req.get_headers(100)[header]
    value = type(value) == "table" and value[1] or value
    return value and match(value, "^%s*([^,]*[^,%s])") or own
  end
  -- 3.4 gives what it is told, a string, and nginx's variable is one, too.
  local number = host.flavour == "3.4" and tostring or tonumber
  return strict("kong.request", {
    get_header = within(REQUEST, function(name)
      expect(type(name) == "string", "header name must be a string")
      local value = req.get_headers(100)[name]
      return type(value) == "table" and value[1] or value
    end),
    get_headers = within(REQUEST, get_headers),
    get_method = within(REQUEST, function() return req.get_method() end),
    get_scheme = within(REQUEST, function() return ngx.var.scheme end),
    get_host = within(REQUEST, function() return ngx.var.host end),
    get_port = within(REQUEST, function() return tonumber(ngx.var.server_port) end),
    get_path = within(REQUEST, function() return normalized(raw_path()) end),
    get_raw_path = within(REQUEST, raw_path),
    get_raw_query = within(REQUEST, function() return ngx.var.args or "" end),
    get_raw_body = within("rewrite, access, response, error, admin_api", function()
      req.read_body()
      local body = req.get_body_data()
      if not body and req.get_body_file() then
        return nil, "request body did not fit into client body buffer, consider raising 'client_body_buffer_size'"
      end
      return body or ""
    end),
    get_forwarded_scheme = within(REQUEST, function() return lower(forwarded("x-forwarded-proto", ngx.var.scheme)) end),
    get_forwarded_host = within(REQUEST, function() return lower(forwarded("x-forwarded-host", ngx.var.host)) end),
    get_forwarded_port = within(REQUEST, function()
      return number(forwarded("x-forwarded-port", ngx.var.server_port))
    end),
  })
end


-- --- kong.response, kong.service.request

local function check_header(name, value)
  if type(name) ~= "string" then
    error(format("invalid header name %q: got %s, expected string", tostring(name), type(name)), 3)
  end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    error(format("invalid header value for %q: got %s, expected string, number or boolean", name, kind), 3)
  end
end


local function check_not_sent()
  if ngx.headers_sent then
    error("headers have already been sent", 3)
  end
end


--- Sends an answer and ends the request.
function _M.send(answer)
  ngx.status = answer.status
  for name, value in pairs(answer.headers or {}) do
    ngx.header[name] = value
  end
  local body = answer.body
  if type(body) == "table" then
    body = cjson.encode(body)
    ngx.header["Content-Type"] = answer.has_type and ngx.header["Content-Type"] or "application/json; charset=utf-8"
  end
  if not answer.has_length then
    ngx.header["Content-Length"] = #(body or "")
  end
  ngx.print(body or "")
  return ngx.exit(answer.status)
end


local function exit(status, body, headers)
  check_not_sent()
  expect(type(status) == "number", "code must be a number")
  expect(status >= 100 and status <= 599, "code must be a number between 100 and 599")
  expect(body == nil or type(body) == "string" or type(body) == "table", "body must be a nil, string or table")
  expect(headers == nil or type(headers) == "table", "headers must be a nil or table")
  local phase = current_phase()
  expect(phase ~= "header_filter" or body == nil,
         "function cannot be called in header_filter phase with a body (only in: rewrite, access, admin_api)")
  local answer = { status = status, body = body, headers = {} }
  for name, value in pairs(headers or {}) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      check_header(name, one)
    end
    answer.headers[name] = type(value) == "table" and value or tostring(value)
    answer.has_type = answer.has_type or lower(name) == "content-type"
    answer.has_length = answer.has_length or lower(name) == "content-length"
  end
  if phase == "access" then
    -- The rest of the plugin does not run; the runloop sends what is left here.
    ngx.ctx.KONG_ANSWER = answer
    return coroutine_yield()
  elseif phase == "header_filter" then
    ngx.status = status
    for name, value in pairs(answer.headers) do
      ngx.header[name] = value
    end
    return
  end
  return _M.send(answer)
end


local function added(values, value)
  local all = type(values) == "table" and { unpack(values) } or { values }
  insert(all, tostring(value))
  return all
end


local response = strict("kong.response", {
  exit = within("preread, rewrite, access, admin_api, header_filter", exit),
  get_status = within(ANSWERED, function() return ngx.status end),
  set_header = within(RESPONSE, function(name, value)
    check_not_sent()
    check_header(name, value)
    ngx.header[name] = tostring(value)
  end),
  add_header = within(RESPONSE, function(name, value)
    check_not_sent()
    check_header(name, value)
    ngx.header[name] = added(ngx.header[name], value)
  end),
  clear_header = within(RESPONSE, function(name)
    check_not_sent()
    expect(type(name) == "string", "header name must be a string")
    ngx.header[name] = nil
  end),
})

local UPSTREAM = "rewrite, access, balancer"
local service_request = strict("kong.service.request", {
  set_header = within(UPSTREAM, function(name, value)
    check_header(name, value)
    req.set_header(name, tostring(value))
  end),
  add_header = within(UPSTREAM, function(name, value)
    check_header(name, value)
    req.set_header(name, added(req.get_headers(MAX_HEADERS)[name], value))
  end),
  clear_header = within(UPSTREAM, function(name)
    expect(type(name) == "string", "header must be a string")
    req.clear_header(name)
  end),
})


-- --- kong.client, kong.db

--- Lookups in a set of entities, each result a table of its own. `by`: names of unique fields
local function dao(entity, find_in, by)
  -- With a database Kong would have to wait for it, and there it cannot.
  local function check()
    local phase = ngx.get_phase()
    expect(not find("header_filter body_filter log", phase, 1, true),
           "API disabled in the context of %s_by_lua*", phase)
  end
  local function found(name, value)
    for _, one in ipairs(find_in()[entity]) do
      if one[name] == value then
        return schema.copy(one)
      end
    end
    return nil, nil
  end
  local self = {
    select = function(_, key)
      check()
      expect(type(key) == "table", "primary_key must be a table")
      if not schema.is_uuid(key.id) then
        return nil, "[off] invalid primary key: '{id=\"expected a valid UUID\"}'"
      end
      return found("id", key.id)
    end,
    cache_key = function(_, key)
      return concat({ entity, type(key) == "table" and key.id or key, "", "", "", "", "default" }, ":")
    end,
  }
  for _, name in ipairs(by) do
    self["select_by_" .. name] = function(_, value)
      check()
      expect(type(value) == "string", "%s must be a string", name)
      return found(name, value)
    end
  end
  return strict("kong.db." .. entity, self)
end


--- The rows of plugins as a DAO gives them: selected anew each time, without what the runloop adds.
local function each(rows, selected)
  return function(_, size)
    expect(size == nil or type(size) == "number", "size must be a number")
    local i = 0
    return function()
      i = i + 1
      local row = rows()[i]
      if row then
        return selected(row), nil, 1
      end
    end
  end
end


local function client(db)
  return strict("kong.client", {
    get_ip = within(IN_PLUGIN, function() return ngx.var.remote_addr end),
    get_forwarded_ip = within(IN_PLUGIN, function() return ngx.var.remote_addr end),
    get_credential = within(AUTHENTICATED, function() return ngx.ctx.authenticated_credential end),
    get_consumer = within(AUTHENTICATED, function() return ngx.ctx.authenticated_consumer end),
    authenticate = within("access", function(consumer, credential)
      expect(consumer == nil or type(consumer) == "table", "consumer must be a table or nil")
      expect(credential == nil or type(credential) == "table", "credential must be a table or nil")
      expect(consumer ~= nil or credential ~= nil, "either credential or consumer must be provided")
      ngx.ctx.authenticated_consumer = consumer
      ngx.ctx.authenticated_credential = credential
    end),
    load_consumer = within(AUTHENTICATED, function(id, by_username)
      expect(type(id) == "string", "consumer_id must be a string")
      local is_uuid = schema.is_uuid(id)
      expect(is_uuid or by_username, "cannot load a consumer with an id that is not a uuid")
      local consumer, err
      if is_uuid then
        consumer, err = db.consumers:select({ id = id })
      end
      if not consumer and not err and by_username then
        consumer, err = db.consumers:select_by_username(id)
      end
      return consumer, err
    end),
    tls = strict("kong.client.tls", {
      request_client_certificate = within("certificate", tls.request_client_certificate),
      disable_session_reuse = within("certificate", tls.disable_session_reuse),
      get_full_client_certificate_chain = within("rewrite, access, balancer, response, log",
                                                 tls.get_full_client_certificate_chain),
    }),
  })
end


-- --- kong.ctx: tables of this request; `plugin` is that of one instance

local ctx = setmetatable({}, {
  __index = function(_, name)
    if name ~= "shared" and name ~= "plugin" then
      error("kong.ctx." .. tostring(name) .. ": the host of the tests has no such name", 2)
    end
    check_phase(IN_PLUGIN)
    local key = name == "shared" and name or ngx.ctx.KONG_PLUGIN.conf.__key__
    local tables = ngx.ctx.KONG_CTX or {}
    ngx.ctx.KONG_CTX = tables
    tables[key] = tables[key] or {}
    return tables[key]
  end,
  __newindex = function(_, name) error("kong.ctx." .. tostring(name) .. ": cannot be replaced", 2) end,
})


-- --- kong.log: what goes into the access log of plugins such as file-log

local function is_serializable(value, seen)
  local kind = type(value)
  if kind ~= "table" then
    return value == nil or value == ngx.null or kind == "number" or kind == "string" or kind == "boolean"
  end
  if seen[value] then
    return false
  end
  seen[value] = true
  for k, v in pairs(value) do
    if type(k) == "table" or type(k) == "function" or not is_serializable(v, seen) then
      return false
    end
  end
  return true
end


local function serialize()
  local headers = req.get_headers(100)
  for _, name in ipairs({ "authorization", "proxy-authorization" }) do
    headers[name] = headers[name] and "REDACTED"
  end
  setmetatable(headers, nil)
  local state = ngx.ctx
  local credential = state.authenticated_credential
  local root = {
    request = {
      method = req.get_method(), uri = ngx.var.request_uri, headers = headers, tls = ngx.var.ssl_protocol and {
        version = ngx.var.ssl_protocol, cipher = ngx.var.ssl_cipher, client_verify = ngx.var.ssl_client_verify,
      },
    },
    response = { status = ngx.status, headers = ngx.resp.get_headers() },
    client_ip = ngx.var.remote_addr,
    consumer = state.authenticated_consumer,
    authenticated_entity = credential and { id = credential.id, consumer_id = credential.consumer_id },
    route = state.KONG_ROUTE and { id = state.KONG_ROUTE.id, name = state.KONG_ROUTE.name },
    service = state.KONG_SERVICE and { id = state.KONG_SERVICE.id, name = state.KONG_SERVICE.name },
  }
  setmetatable(root.response.headers, nil)
  for _, one in ipairs(state.KONG_SERIALIZE or {}) do
    expect(is_serializable(one.value, {}), "value must be nil, a number, string, boolean or a " ..
           "non-self-referencial table containing numbers, string and booleans")
    local record, last = root
    for name in gmatch(one.key, "[^.]+") do
      if last then
        record[last] = type(record[last]) == "table" and record[last] or {}
        record = record[last]
      end
      last = name
    end
    local present = record[last] ~= nil
    if one.mode == "set" or one.mode == "add" and not present or one.mode == "replace" and present then
      record[last] = one.value
    end
  end
  return root
end


rawset(log, "serialize", within("log", serialize))
rawset(log, "set_serialize_value", within(WITH_CTX, function(key, value, options)
  local mode = options and options.mode or "set"
  expect(type(key) == "string", "key must be a string")
  expect(mode == "set" or mode == "add" or mode == "replace", "mode must be 'set', 'add' or 'replace'")
  local values = ngx.ctx.KONG_SERIALIZE or {}
  ngx.ctx.KONG_SERIALIZE = values
  insert(values, { key = key, value = value, mode = mode })
end))


--- The global `kong`.
-- @tparam table host `flavour`, `trusted` (boolean: proxies are), `configuration`, `entities` (function),
--   `selected` (function of the row of a plugin)
function _M.new(host)
  local version = VERSIONS[host.flavour] or error("no flavour " .. tostring(host.flavour))
  local db = strict("kong.db", {
    consumers = dao("consumers", host.entities, { "username", "custom_id" }),
    certificates = dao("certificates", host.entities, {}),
    plugins = strict("kong.db.plugins", { each = each(function() return host.entities().plugins end, host.selected) }),
  })
  local major, minor, patch = match(version, "(%d+)%.(%d+)%.(%d+)")
  return strict("kong", {
    version = version,
    version_num = tonumber(major .. format("%03d%03d", minor, patch)),
    configuration = setmetatable({}, {
      __index = host.configuration,
      __newindex = function(_, name) error("cannot write to configuration: " .. tostring(name), 2) end,
    }),
    request = request(host),
    response = response,
    service = strict("kong.service", { request = service_request }),
    client = client(db),
    ctx = ctx,
    log = log,
    cache = strict("kong.cache", cache),
    db = db,
    vault = strict("kong.vault", { get = vault.get, is_reference = vault.is_reference, update = vault.update }),
    plugin = strict("kong.plugin", {
      get_id = within(IN_PLUGIN, function() return ngx.ctx.KONG_PLUGIN.conf.__plugin_id end),
    }),
  })
end


-- For the paths of routes.
_M.normalized = normalized

return _M
