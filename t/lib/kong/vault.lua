--- References to secrets, `{vault://env/NAME}`: the environment as it was when nginx started. A test rotates a secret
-- in the shared dictionary, which comes first.

local cjson = require "cjson.safe"
local ffi = require "ffi"

local ffi_string = ffi.string
local find = string.find
local gsub = string.gsub
local match = string.match
local ngx_shared = ngx.shared
local pairs = pairs
local tostring = tostring
local type = type
local upper = string.upper

ffi.cdef("extern char **environ;")

local _M = {}
local environment = {}


--- Reads the environment: workers have none, so this is for init_by_lua.
function _M.init()
  environment = {}
  local i = 0
  while ffi.C.environ[i] ~= nil do
    local name, value = match(ffi_string(ffi.C.environ[i]), "^([^=]*)=(.*)$")
    if name then
      environment[name] = value
    end
    i = i + 1
  end
end


function _M.variable(resource)
  return (gsub(upper(resource), "-", "_"))
end


function _M.is_reference(value)
  return type(value) == "string" and find(value, "^{vault://.*}$") ~= nil
end


--- @treturn string|nil
-- @treturn nil|string message
function _M.get(reference)
  if not _M.is_reference(reference) then
    return nil, "not a reference [" .. tostring(reference) .. "]"
  end
  local vault, resource, key = match(reference, "^{vault://([^/]+)/([^/]+)/?(.*)}$")
  if not vault then
    return nil, "reference url is missing host or path [" .. reference .. "]"
  end
  if vault ~= "env" then
    return nil, "could not find vault (" .. vault .. ") [" .. reference .. "]"
  end
  local name = _M.variable(resource)
  local value = ngx_shared.kong:get("vault:" .. name) or environment[name]
  if value and key ~= "" then
    local object = cjson.decode(value)
    value = type(object) == "table" and type(object[key]) == "string" and object[key] or nil
  end
  if not value then
    return nil, "unable to load value (" .. resource .. ") from vault (env): not found [" .. reference .. "]"
  end
  return value
end


--- Puts the values of today in a configuration that came of references, and in the records inside: the same tables.
function _M.update(config)
  if type(config) ~= "table" then
    return config
  end
  for name, reference in pairs(config["$refs"] or {}) do
    if type(reference) == "table" then
      for i, one in pairs(reference) do
        config[name][i] = _M.get(one) or ""
      end
    else
      config[name] = _M.get(reference) or ""
    end
  end
  for name, value in pairs(config) do
    if type(value) == "table" and name ~= "$refs" then
      _M.update(value)
    end
  end
  return config
end


return _M
