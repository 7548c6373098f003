--- Checks a configuration when it is written. What is the engine's the engine itself checks, so that nothing is
-- accepted that a worker refuses afterwards, but for what only workers can see.

local keybound = require "resty.keybound"
local plugin = require "kong.plugins.keybound.options"
local store = require "resty.keybound.store"

local add_certificates = plugin.add_certificates
local certificate_headers = plugin.certificate_headers
local encode = plugin.encode
local fields = plugin.fields
local is_reference = plugin.is_reference
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local match = string.match
local next = next
local pairs = pairs
local type = type

-- Headers that Kong itself makes, of the connection or of what the client sent, after or before any plugin.
local OF_KONG = {
  ["x-forwarded-for"] = true, ["x-forwarded-proto"] = true, ["x-forwarded-host"] = true, ["x-forwarded-port"] = true,
  ["x-forwarded-path"] = true, ["x-forwarded-prefix"] = true, ["x-real-ip"] = true, ["x-kong-request-id"] = true,
  ["proxy-authorization"] = true, proxy = true, via = true,
}
for _, name in ipairs(plugin.IDENTITY) do
  OF_KONG[lower(name)] = true
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


-- Checks of what is not the engine's: the option, and what is wrong with it.

local function check_store(options)
  if options.redis then
    if options.shared_dict then
      return "redis", "contradicts shared_dict: workers share one store"
    end
    local ok, err = store.new(plugin.store_of(options))
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
  if options.inject_client_cert_details and not plugin.uses_certificates(options) then
    return "inject_client_cert_details",
      "needs proof_of_possession_mtls strict or optional: without it nothing vouches for the certificate"
  end
  local named = { { "upstream_headers_names", options.upstream_headers_names or {} } }
  if options.inject_client_cert_details then
    for option in pairs(plugin.CERTIFICATE_HEADERS) do
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
  local ok, err, path = keybound.check(encode(part), { store = plugin.store_of(options) })
  if path == "store" then
    return "shared_dict", "required for logins, sessions and proofs, or redis: what all workers must know is kept there"
  end
  local option = path and match(path, "^[%w_]+")
  -- What a reference stands for is known to the workers only.
  if ok or (option and is_reference(options[option])) then
    return nil
  end
  return option or "", option and option == path and err:sub(#option + 3) or err
end


local function check_engine(options)
  local part = plugin.engine_part(options)
  if is_reference(part.issuer) then
    part.issuer = "https://reference.invalid"
  end
  for _, name in ipairs { "session_secret", "dpop_nonce_secret" } do
    if is_reference(part[name]) then
      part[name] = ("-"):rep(32)
    end
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


-- @tparam table config as the schema has found it good, field by field
-- @treturn true|nil
-- @treturn nil|table|string errors by field, as Kong has them
return function(config)
  local options = plugin.effective(config)
  for _, check in ipairs { check_references, check_store, check_identity, check_headers, check_engine } do
    local option, err = check(options)
    if option then
      return nil, option == "" and err or { [option] = err }
    end
  end
  return true
end
