--- The counters, as an OpenMetrics page of Kong's Status API: `/keybound/metrics`.

local engines = require "kong.plugins.keybound.engines"
local entities = require "kong.plugins.keybound.entities"
local keybound = require "resty.keybound"

local concat = table.concat
local ipairs = ipairs
local kong = kong
local ngx = ngx


--- Before Kong 3.5 a worker knows the instances only that it had requests for, and a page must have them all.
-- @treturn table|nil what must be kept until the page is made
local function know_all()
  local instances = {}
  for plugin, err in kong.db.plugins:each() do
    if err then
      kong.log.err("the plugins cannot be listed: ", err)
      return nil
    end
    if plugin.name == "keybound" and plugin.enabled then
      -- One that cannot be used has counted before.
      instances[plugin.config] = engines.instance(plugin.config, entities.certificate) or true
    end
  end
  return instances
end


local function page()
  local instances = know_all()
  if not instances then
    return kong.response.exit(500, { message = "An unexpected error occurred" })
  end
  local zones = engines.zones(instances)
  local wanted = ngx.var.arg_zone or (#zones == 1 and zones[1])
  for _, zone in ipairs(zones) do
    if zone == wanted then
      return keybound.metrics(zone)
    end
  end
  local message = #zones == 0 and "no instance of keybound has metrics_dict"
                  or "choose one: ?zone=" .. concat(zones, ", ")
  return kong.response.exit(404, { message = message })
end


return { ["/keybound/metrics"] = { GET = page } }
