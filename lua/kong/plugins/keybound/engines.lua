--- From the options of a plugin instance to an engine. All instances that are configured alike share one, which is
-- freed when none is left.

local keybound = require "resty.keybound"
local plugin = require "kong.plugins.keybound.options"

local ngx_now = ngx.now
local pairs = pairs
local setmetatable = setmetatable
local sort = table.sort
local tostring = tostring

-- Seconds after which an instance is looked at again: what its references stand for may have changed, or a certificate.
local AGAIN = 1
local AGAIN_AFTER_FAILURE = 5

local _M = {}

-- What was made of a configuration. It must not refer to it, or neither would ever be freed.
local instances = setmetatable({}, { __mode = "k" })
-- By everything that an engine is made of, as text.
local engines = setmetatable({}, { __mode = "v" })


local function make(config, options, certificate_of)
  local name = plugin.unresolved(config)
  if name then
    return nil, name .. ": the reference to a vault could not be resolved"
  end
  local part = plugin.engine_part(options)
  local ok, err = plugin.add_certificates(part, certificate_of)
  if not ok then
    return nil, err
  end
  local text = plugin.encode(part)
  local host = {
    store = plugin.store_of(options), metrics = options.metrics_dict, certificate_source = options.certificate_source,
  }
  local key = text .. plugin.encode(host)
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


--- What there is for a configuration.
-- @tparam table config the configuration, always the same table for the same instance
-- @tparam function certificate_of gives `{ certificate, private_key }` for the id of a Certificate, or nil and why
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
  local options = plugin.effective(config)
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
    instance = {
      options = options,
      headers = plugin.upstream_headers(options),
      certificate_headers = plugin.certificate_headers(options),
    }
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
    local zone = plugin.effective(config).metrics_dict
    if zone and not seen[zone] then
      seen[zone] = true
      zones[#zones + 1] = zone
    end
  end
  sort(zones)
  return zones
end


return _M
