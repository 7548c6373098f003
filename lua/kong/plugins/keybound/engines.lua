--- From the configuration of a plugin instance to an engine. All instances that are configured alike share one, which
-- is freed when none is left.

local claims = require "kong.plugins.keybound.claims"
local keybound = require "resty.keybound"
local schema = require "kong.plugins.keybound.schema"
local store = require "resty.keybound.store"
local cjson = require "cjson.safe"

local concat = table.concat
local find = string.find
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local match = string.match
local next = next
local ngx_now = ngx.now
local null = ngx.null
local pairs = pairs
local setmetatable = setmetatable
local sort = table.sort
local tostring = tostring
local type = type

-- The plugin's own options begin with this one; those before it are the engine's.
local FIRST_OWN = "shared_dict"
-- Seconds after which an instance is looked at again: what its references stand for may have changed, or a certificate.
local AGAIN = 1
local AGAIN_AFTER_FAILURE = 5

local CERTIFICATES = {
  "tls_client_auth_cert_id", "token_endpoint_cert_id", "introspection_endpoint_cert_id", "revocation_endpoint_cert_id",
  "metadata_cert_id",
}

-- Options that name a header for the upstream, and the variable of nginx that it tells.
local CERTIFICATE_HEADERS = {
  client_cert_header_name = "ssl_client_escaped_cert",
  client_serial_header_name = "ssl_client_serial",
  client_cert_issuer_dn_header_name = "ssl_client_i_dn",
  client_cert_subject_dn_header_name = "ssl_client_s_dn",
  client_cert_fingerprint_header_name = "ssl_client_fingerprint",
  -- Nobody has a variable for this one: the handler knows it.
  client_cert_thumbprint_header_name = "thumbprint",
}

local _M = {
  -- Headers by which Kong tells the upstream who the client is.
  IDENTITY = {
    "X-Consumer-ID", "X-Consumer-Custom-ID", "X-Consumer-Username", "X-Credential-Identifier", "X-Anonymous-Consumer",
  },
}

-- Headers that Kong itself makes, of the connection or of what the client sent, after or before any plugin.
local OF_KONG = {
  ["x-forwarded-for"] = true, ["x-forwarded-proto"] = true, ["x-forwarded-host"] = true, ["x-forwarded-port"] = true,
  ["x-forwarded-path"] = true, ["x-forwarded-prefix"] = true, ["x-real-ip"] = true, ["x-kong-request-id"] = true,
  ["proxy-authorization"] = true, proxy = true, via = true,
}
for _, name in ipairs(_M.IDENTITY) do
  OF_KONG[lower(name)] = true
end

local weak_keys = { __mode = "k" }
-- What was made of a configuration. It must not refer to it, or neither would ever be freed.
local instances = setmetatable({}, weak_keys)
-- By everything that an engine is made of, as text.
local engines = setmetatable({}, { __mode = "v" })


--- What is configured, without what only stands for nothing: Kong writes null, and forms send empty lists and records.
local function present(value)
  if value == null then
    return nil
  end
  if type(value) ~= "table" then
    return value
  end
  for _, member in pairs(value) do
    if member ~= null then
      return value
    end
  end
  return nil
end


--- JSON, the same text for the same configuration. What Kong adds, `$refs`, is left out.
local function encode(value)
  if type(value) ~= "table" then
    return cjson.encode(value)
  end
  local parts = {}
  if value[1] ~= nil then
    for i, element in ipairs(value) do
      parts[i] = encode(element)
    end
    return "[" .. concat(parts, ",") .. "]"
  end
  for name, member in pairs(value) do
    if name ~= "$refs" and present(member) ~= nil then
      parts[#parts + 1] = encode(name) .. ":" .. encode(member)
    end
  end
  sort(parts)
  return "{" .. concat(parts, ",") .. "}"
end


--- The fields of the configuration, in the order of the schema.
local function fields()
  for _, entry in ipairs(schema.fields) do
    if entry.config then
      return entry.config.fields
    end
  end
end


--- What holds: the options that there are, and the defaults of the others. An option that is null is none.
local function effective(config)
  local options = {}
  for _, entry in ipairs(fields()) do
    local name, field = next(entry)
    options[name] = present(config[name])
    if options[name] == nil then
      options[name] = field.default
    end
  end
  return options
end


--- The engine's part of the options. A default is left to the engine: it refuses options without effect.
local function engine_options(options)
  local part = {}
  for _, entry in ipairs(fields()) do
    local name, field = next(entry)
    if name == FIRST_OWN then
      return part
    end
    local value = options[name]
    if value ~= nil and (field.default == nil or encode(value) ~= encode(field.default)) then
      part[name] = value
    end
  end
end


local function is_reference(value)
  if type(value) == "table" then
    value = value[1]
  end
  return type(value) == "string" and find(value, "^{vault://.*}$") ~= nil
end


--- The path of a reference that stands for nothing: Kong leaves it empty where it cannot resolve it.
-- @tparam table values a record or an array
-- @tparam table|nil references those of an array; a record has its own
local function unresolved(values, references)
  references = values["$refs"] or references or {}
  for name, value in pairs(values) do
    if type(value) == "table" then
      local inner = name ~= "$refs" and unresolved(value, references[name])
      if inner then
        return name .. "." .. inner
      end
    elseif is_reference(value) or value == "" and references[name] then
      return tostring(name)
    end
  end
end


--- The path of a reference that Kong does not resolve: the field is not referenceable.
-- @tparam table field the definition of the field
-- @treturn string|nil what is behind the field's own name, "" for nothing
local function unresolvable(field, value)
  if type(value) ~= "table" then
    return is_reference(value) and not field.referenceable and "" or nil
  end
  local members = {}
  for _, entry in ipairs(field.fields or {}) do
    local name, member = next(entry)
    members[name] = member
  end
  for name, one in pairs(value) do
    local inner = name ~= "$refs" and unresolvable(members[name] or field.elements or field.values or field, one)
    if inner then
      return "." .. name .. inner
    end
  end
end


--- Adds the Certificate entities of Kong that the options name.
-- @tparam function certificate_of gives `{ certificate, private_key }` for an id, or nil and a message
-- @treturn true|nil
-- @treturn nil|string message
local function add_certificates(options, certificate_of)
  local all = {}
  for name, certificate in pairs(options.client_certificates or all) do
    all[name] = certificate
  end
  for _, option in ipairs(CERTIFICATES) do
    local id = options[option]
    if id and not all[id] and claims.is_uuid(id) then
      local certificate, err = certificate_of(id)
      if not certificate then
        return nil, option .. ": " .. err
      end
      all[id] = certificate
    end
  end
  options.client_certificates = present(all)
  return true
end


--- The names of the headers that tell the client's certificate, by nginx's variable; none where they are not wanted.
local function certificate_headers(options)
  local headers = {}
  if options.inject_client_cert_details then
    for option, variable in pairs(CERTIFICATE_HEADERS) do
      headers[variable] = options[option]
    end
  end
  return headers
end


local function store_of(options)
  if not options.redis then
    return options.shared_dict
  end
  local spec = {}
  for name, value in pairs(options.redis) do
    if name ~= "$refs" then
      spec[name] = present(value)
    end
  end
  return { redis = spec }
end


-- Checks of what is not the engine's: the option, and what is wrong with it.

local function check_store(options)
  if options.redis then
    if options.shared_dict then
      return "redis", "contradicts shared_dict: workers share one store"
    end
    local ok, err = store.new(store_of(options))
    if not ok then
      return "redis", (gsub(err, "^keybound%.store: redis[.:] ?", ""))
    end
    if not options.store_secret then
      return "store_secret", "required with redis: what is kept there is sealed with it (openssl rand -base64 32)"
    end
  elseif options.store_secret and not options.shared_dict then
    return "store_secret", "has no effect without shared_dict or redis"
  end
  if options.metrics_dict and options.metrics_dict == options.shared_dict then
    return "metrics_dict", "must be another one than shared_dict, where nothing may be displaced"
  end
end


local function check_identity(options)
  if options.consumer_optional and not options.consumer_claim then
    return "consumer_optional", "has no effect without consumer_claim"
  end
  if options.anonymous_on_failed_binding and not options.anonymous then
    return "anonymous_on_failed_binding", "has no effect without anonymous"
  end
end


local function check_headers(options)
  if options.inject_client_cert_details and options.proof_of_possession_mtls == "off" then
    return "inject_client_cert_details",
      "needs proof_of_possession_mtls strict or optional: without it nothing vouches for the certificate"
  end
  local named = { { "upstream_headers_names", options.upstream_headers_names or {} } }
  if options.inject_client_cert_details then
    for option in pairs(CERTIFICATE_HEADERS) do
      named[#named + 1] = { option, { options[option] } }
    end
  end
  for _, one in ipairs(named) do
    for _, name in ipairs(one[2]) do
      if OF_KONG[lower(name)] then
        return one[1], name .. ": Kong itself sets this header"
      end
    end
  end
end


local function check_references(options)
  for _, entry in ipairs(fields()) do
    local name, field = next(entry)
    local path = unresolvable(field, options[name])
    if path then
      return name, (path == "" and "" or path:sub(2) .. ": ") .. "cannot be a reference to a vault"
    end
  end
end


--- What the engine says of its part.
-- @treturn nil|string the option, or "" where it is about none
-- @treturn nil|string message
local function check_part(part, options)
  local ok, err, path = keybound.check(encode(part))
  local option = path and match(path, "^[%w_]+")
  -- What a reference stands for is known to the workers only.
  if ok or (option and is_reference(options[option])) then
    return nil
  end
  return option or "", option and option == path and err:sub(#option + 3) or err
end


local function check_engine(options)
  local part = engine_options(options)
  if is_reference(part.issuer) then
    part.issuer = "https://reference.invalid"
  end
  -- The entity is looked up when a worker needs it: here there may be no database.
  add_certificates(part, function() return { certificate = "-", private_key = "-" } end)
  local option, err = check_part(part, options)
  if option or not options.inject_client_cert_details then
    return option, err
  end
  -- The engine knows which headers cannot be set, and none twice.
  local names, values = {}, {}
  for i, name in ipairs(part.upstream_headers_names or {}) do
    names[i], values[i] = name, (part.upstream_headers_claims or {})[i] or "sub"
  end
  for _, name in pairs(certificate_headers(options)) do
    names[#names + 1], values[#values + 1] = name, "sub"
  end
  part.upstream_headers_names, part.upstream_headers_claims = names, values
  option, err = check_part(part, options)
  return option and "inject_client_cert_details", err
end


--- Checks a configuration when it is written; the engine itself says what is wrong with its options.
-- @treturn true|nil
-- @treturn nil|table|string errors by field, as Kong has them
function _M.check(config)
  local options = effective(config)
  for _, check in ipairs { check_references, check_store, check_identity, check_headers, check_engine } do
    local option, err = check(options)
    if option then
      return nil, option == "" and err or { [option] = err }
    end
  end
  return true
end


local function make(config, options, certificate_of)
  local name = unresolved(config)
  if name then
    return nil, name .. ": the reference to a vault could not be resolved"
  end
  local part = engine_options(options)
  local ok, err = add_certificates(part, certificate_of)
  if not ok then
    return nil, err
  end
  local text = encode(part)
  local host = {
    store = store_of(options), metrics = options.metrics_dict, certificate_source = options.certificate_source,
  }
  local key = text .. encode(host)
  local engine = engines[key]
  if not engine then
    engine, err = keybound.new(text, host)
    if not engine then
      return nil, err
    end
    engines[key] = engine
  end
  return engine
end


--- The headers that the plugin may set for the upstream, besides those of Kong: nobody else may.
local function own_headers(options)
  local names = {}
  for _, list in ipairs { options.upstream_headers_names or {}, certificate_headers(options) } do
    for _, name in pairs(list) do
      names[#names + 1] = name
    end
  end
  return names
end


--- What there is for a configuration.
-- @tparam table config the configuration, always the same table for the same instance
-- @tparam function certificate_of see above
-- @treturn table|nil `engine`; `options`, with the defaults; `headers`, the names of those that the plugin may set for
--   the upstream; `certificate_headers`, those that tell the certificate, by variable
-- @treturn nil|string message; with an instance, too: then it goes on as it was
function _M.instance(config, certificate_of)
  local instance, now = instances[config], ngx_now()
  if instance and now < instance.again then
    return instance.engine and instance, instance.err
  end
  if instance and instance.engine then
    -- It may wait for the database: others go on with what there is.
    instance.again = now + AGAIN_AFTER_FAILURE
  end
  local options = effective(config)
  local engine, err = make(config, options, certificate_of)
  instance, now = instances[config], ngx_now()
  if not engine then
    err = "the configuration cannot be used: " .. tostring(err)
    if instance and instance.engine then
      -- A vault that is away is no reason to refuse everybody.
      instance.again = now + AGAIN_AFTER_FAILURE
      return instance, err
    end
    instances[config] = { again = now + AGAIN, err = err }
    return nil, err
  end
  if not instance or not instance.engine then
    instance = { options = options, headers = own_headers(options), certificate_headers = certificate_headers(options) }
    instances[config] = instance
  end
  instance.engine, instance.again = engine, now + AGAIN
  return instance
end


--- The zones where the engines of some instances count.
-- @tparam table by_config instances, by configuration
function _M.zones(by_config)
  local zones, seen = {}, {}
  for config in pairs(by_config) do
    local zone = present(config.metrics_dict)
    if zone and not seen[zone] then
      seen[zone] = true
      zones[#zones + 1] = zone
    end
  end
  sort(zones)
  return zones
end


return _M
