--- The options of a plugin instance: what of its configuration holds, and what of that is the engine's.

local claims = require "kong.plugins.keybound.claims"
local schema = require "kong.plugins.keybound.schema"
local cjson = require "cjson.safe"

local concat = table.concat
local find = string.find
local gmatch = string.gmatch
local ipairs = ipairs
local match = string.match
local next = next
local null = ngx.null
local pairs = pairs
local sort = table.sort
local sub = string.sub
local tostring = tostring
local type = type

-- The plugin's own options begin with this one; those before it are the engine's.
local FIRST_OWN = "shared_dict"

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
  CERTIFICATE_HEADERS = CERTIFICATE_HEADERS,
  -- Headers by which clients show who they are.
  CREDENTIALS = { "Authorization", "DPoP" },
  -- Headers by which Kong tells the upstream who the client is.
  IDENTITY = {
    "X-Consumer-ID", "X-Consumer-Custom-ID", "X-Consumer-Username", "X-Credential-Identifier", "X-Anonymous-Consumer",
  },
}


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
function _M.encode(value)
  if type(value) ~= "table" then
    return cjson.encode(value)
  end
  local parts = {}
  if value[1] ~= nil then
    for i, element in ipairs(value) do
      parts[i] = _M.encode(element)
    end
    return "[" .. concat(parts, ",") .. "]"
  end
  for name, member in pairs(value) do
    if name ~= "$refs" and present(member) ~= nil then
      parts[#parts + 1] = _M.encode(name) .. ":" .. _M.encode(member)
    end
  end
  sort(parts)
  return "{" .. concat(parts, ",") .. "}"
end


--- The fields of the configuration, in the order of the schema.
function _M.fields()
  for _, entry in ipairs(schema.fields) do
    if entry.config then
      return entry.config.fields
    end
  end
end


--- What holds: the options that there are, and the defaults of the others. An option that is null is none.
function _M.effective(config)
  local options = {}
  for _, entry in ipairs(_M.fields()) do
    local name, field = next(entry)
    options[name] = present(config[name])
    if options[name] == nil then
      options[name] = field.default
    end
  end
  return options
end


--- The engine's part of the options. A default is left to the engine: it refuses options without effect.
function _M.engine_part(options)
  local part = {}
  for _, entry in ipairs(_M.fields()) do
    local name, field = next(entry)
    if name == FIRST_OWN then
      return part
    end
    local value = options[name]
    if value ~= nil and (field.default == nil or _M.encode(value) ~= _M.encode(field.default)) then
      part[name] = value
    end
  end
end


--- Whether a value is a reference, or one of its elements is.
function _M.is_reference(value)
  for _, element in ipairs(type(value) == "table" and value or {}) do
    if _M.is_reference(element) then
      return true
    end
  end
  return type(value) == "string" and find(value, "^{vault://.*}$") ~= nil
end


--- The path of a reference that stands for nothing: Kong leaves it empty where it cannot resolve it.
-- @tparam table values a record or an array
-- @tparam table|nil references those of an array; a record has its own
function _M.unresolved(values, references)
  references = values["$refs"] or references or {}
  for name, value in pairs(values) do
    if type(value) == "table" then
      local inner = name ~= "$refs" and _M.unresolved(value, references[name])
      if inner then
        return name .. "." .. inner
      end
    elseif _M.is_reference(value) or value == "" and references[name] then
      return tostring(name)
    end
  end
end


--- Adds the Certificate entities of Kong that the options name.
-- @tparam function certificate_of gives `{ certificate, private_key }` for an id, or nil and a message
-- @treturn true|nil
-- @treturn nil|string message
function _M.add_certificates(options, certificate_of)
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


--- Whether tokens are held to certificates: where proofs are taken, only if that is configured, too.
function _M.uses_certificates(options)
  local mode = present(options.proof_of_possession_mtls)
  if not mode then
    return not _M.takes_proofs(options)
  end
  return mode ~= "off"
end


--- Whether tokens are held to keys, and come with proofs.
function _M.takes_proofs(options)
  local mode = present(options.proof_of_possession_dpop)
  return mode ~= nil and mode ~= "off"
end


--- The names of the headers that tell the client's certificate, by nginx's variable; none where they are not wanted.
function _M.certificate_headers(options)
  local headers = {}
  if options.inject_client_cert_details then
    for option, variable in pairs(CERTIFICATE_HEADERS) do
      headers[variable] = options[option]
    end
  end
  return headers
end


function _M.store_of(options)
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


--- The cookies of a request but those of its session, and of logins under way.
-- @tparam string|nil cookies the header
-- @treturn string|nil
function _M.other_cookies(options, cookies)
  local own, others = options.session_secret and options.session_cookie_name, {}
  if not own or not cookies then
    return cookies
  end
  for pair in gmatch(cookies, "[^;]+") do
    pair = match(pair, "^%s*(.*)")
    if sub(pair, 1, #own) ~= own then
      others[#others + 1] = pair
    end
  end
  return others[1] and concat(others, "; ") or nil
end


--- The headers that the plugin may set for the upstream: nobody else may.
function _M.upstream_headers(options)
  local names = {}
  for _, list in ipairs { _M.IDENTITY, options.upstream_headers_names or {}, _M.certificate_headers(options) } do
    for _, name in pairs(list) do
      names[#names + 1] = name
    end
  end
  return names
end


return _M
