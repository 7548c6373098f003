--- Ready-made fields for schemas: those that open-source Kong 3.4 has, as far as an authentication plugin needs them.

local ngx_null = ngx.null
local error = error
local find = string.find
local match = string.match
local pairs = pairs
local setmetatable = setmetatable

local HTTP_PROTOCOLS = { "grpc", "grpcs", "http", "https" }


--- A field that may be called with attributes of its own.
local function define(field)
  return setmetatable(field, {
    __call = function(self, own)
      own = own or {}
      for name, value in pairs(self) do
        if own[name] == nil then
          own[name] = value
        end
      end
      return own
    end,
  })
end


local function header_name(value)
  if find(value, "^[%w_-]+$") then
    return value
  end
  return nil, "bad header name '" .. value .. "', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
end


local function url(value)
  local scheme, rest = match(value, "^(%a[%w+.-]*):(.*)$")
  local authority = match(rest or value, "^//([^/?#]*)")
  if not authority or match(authority, "([^@:]*):?%d*$") == "" then
    return nil, "missing host in url"
  end
  if not scheme then
    return nil, "missing scheme in url"
  end
  return true
end


local function host(value)
  if find(value, "^[^:]+:%d+$") or find(value, "^%[.*%]:%d+$") then
    return nil, "must not have a port"
  end
  if not find(value, "^[%w%.%-_]+$") and not find(value, "^%[?[%x:]+%]?$") then
    return nil, "invalid value: " .. value
  end
  return true
end


local function no(entity)
  return define { type = "foreign", reference = entity, eq = ngx_null, description = "The plugin has no such scope." }
end


return setmetatable({
  no_consumer = no("consumers"),
  no_route = no("routes"),
  no_service = no("services"),
  header_name = define { type = "string", custom_validator = header_name },
  host = define { type = "string", custom_validator = host },
  port = define { type = "integer", between = { 0, 65535 } },
  timeout = define { type = "integer", between = { 0, 2 ^ 31 - 2 } },
  url = define { type = "string", custom_validator = url },
  -- `auto`: where there is none, Kong makes one.
  uuid = define { type = "string", uuid = true, auto = true },
  protocols = define { type = "set", required = true, default = HTTP_PROTOCOLS, elements = { type = "string" } },
  protocols_http = define {
    type = "set", required = true, default = HTTP_PROTOCOLS, elements = { type = "string", one_of = HTTP_PROTOCOLS },
  },
}, {
  __index = function(_, name)
    error("schema typedef error: definition " .. name .. " does not exist", 2)
  end,
})
