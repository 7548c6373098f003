--- The host of the tests: runs plugins as Kong does, in the phases of nginx. nginx.conf comes from t/lib/Kong.pm.
--
-- In ngx.ctx, of a request: KONG_PHASE; KONG_PLUGIN (name, conf) while one runs; KONG_PLUGINS, those of its route;
-- KONG_ANSWER, what kong.response.exit() left; KONG_ROUTE and KONG_SERVICE.

local cache = require "kong.cache"
local declarative = require "kong.declarative"
local log = require "kong.log"
local pdk = require "kong.pdk"
local schema = require "kong.schema"
local strict = require "kong.strict"
local tls = require "kong.tls"
local vault = require "kong.vault"
local cjson = require "cjson"

local coroutine_create = coroutine.create
local coroutine_resume = coroutine.resume
local error = error
local find = string.find
local floor = math.floor
local format = string.format
local huge = math.huge
local insert = table.insert
local io_open = io.open
local ipairs = ipairs
local ngx = ngx
local null = ngx.null
local package_path = package.path
local pairs = pairs
local pcall = pcall
local rawset = rawset
local require = require
local searchpath = package.searchpath
local sort = table.sort
local sub = string.sub
local tostring = tostring
local type = type

local _M = {}

-- Of this process: options of the test; plugins by PRIORITY, and by name; the configuration's version and entities, and
-- the instances of plugins in use, by name and scope ("global" or the id).
local options, plugins, by_name
local version, entities, instances
local sequence = 0
-- What nginx's internal redirect to the error handler takes from a request: its ngx.ctx, by $kong_request.
local contexts = {}
-- Names of the version and the text of the configuration in the shared dictionary, of this master: of the workers
-- before and after a reload of nginx each have their own.
local version_key, config_key


-- --- Loading, in the master

--- An error where Kong would not start.
-- @treturn table name, handler, schema, priority, status (routes of the Status API)
function _M.load_plugin(name)
  local handler = require("kong.plugins." .. name .. ".handler")
  local priority, number = handler.PRIORITY, handler.VERSION
  if type(priority) ~= "number" or floor(priority) ~= priority or priority == huge or priority == -huge then
    error(format("Plugin %q cannot be loaded because its PRIORITY field is not a valid integer number, got: %q.",
                 name, tostring(priority)), 0)
  end
  if type(number) ~= "string" or not find(number, "^%d+%.%d+%.%d+$") then
    error(format('Plugin %q cannot be loaded because its VERSION field does not follow the "x.y.z" format, got: %q.',
                 name, tostring(number)), 0)
  end
  local ok, checks = pcall(schema.load, name, require("kong.plugins." .. name .. ".schema"))
  if not ok then
    error("error loading plugin schemas: on plugin '" .. name .. "': " .. tostring(checks), 0)
  end
  local status = "kong.plugins." .. name .. ".status_api"
  return { name = name, handler = handler, schema = checks, priority = priority,
           status = searchpath(status, package_path) and require(status) or {} }
end


--- A configuration of a plugin as Kong hands it out: a new table.
local function configuration(row)
  local conf = by_name[row.name].schema:select(row).config
  local ids = {}
  for _, scope in ipairs({ "route", "service", "consumer" }) do
    ids[scope] = type(row[scope]) == "table" and row[scope].id or nil
    conf[scope .. "_id"] = ids[scope]
  end
  sequence = sequence + 1
  conf.__key__ = format("plugins:%s:%s:%s:%s::default", row.name, ids.route or "", ids.service or "",
                        ids.consumer or "")
  conf.__seq__ = sequence
  conf.__plugin_id = row.id
  conf.plugin_instance_name = row.instance_name ~= null and row.instance_name or nil
  return conf
end


--- The instances of `entities`, and the configurations of each plugin in a list.
local function instantiate()
  local found, lists = {}, {}
  for _, row in ipairs(entities.plugins) do
    if row.enabled then
      local conf = configuration(row)
      found[row.name] = found[row.name] or {}
      found[row.name][conf.route_id or conf.service_id or "global"] = { conf = conf, row = row }
      lists[row.name] = lists[row.name] or {}
      insert(lists[row.name], conf)
    end
  end
  return found, lists
end


local function parse(config)
  if type(config) ~= "table" then
    return nil, { ["@entity"] = { "expected an object" } }
  end
  return declarative.parse(config, by_name)
end


--- In init_by_lua: loads the plugins and the configuration, or raises an error.
-- @tparam string path JSON of the options: flavour, plugins (names), config (declarative), configuration (kong.conf's),
--   trusted, rebuild, asks, database, serialized (file)
-- @treturn table the global `kong`
function _M.init(path)
  local file = io_open(path)
  options = cjson.decode(file:read("*a"))
  -- Kong does: errors of elements are sparse arrays.
  cjson.encode_sparse_array(false, 2, 32768)
  file:close()
  vault.init()
  -- Files of plugins see the table; what is in it they find later.
  local kong = strict("kong", {})
  _G.kong = kong
  plugins, by_name = {}, {}
  for _, name in ipairs(options.plugins) do
    local plugin = _M.load_plugin(name)
    by_name[name] = plugin
    insert(plugins, plugin)
  end
  sort(plugins, function(a, b) return a.priority > b.priority or a.priority == b.priority and a.name > b.name end)
  for name, value in pairs(pdk.new {
    flavour = options.flavour, trusted = options.trusted, configuration = options.configuration,
    entities = function() return entities end,
    selected = function(row) return by_name[row.name].schema:select(row) end,
  }) do
    rawset(kong, name, value)
  end
  local parsed, errors = parse(options.config)
  if not parsed then
    error("error parsing declarative config: " .. cjson.encode(errors), 0)
  end
  local master = ngx.shared.kong:incr("masters", 1, 0)
  version_key, config_key = "version " .. master, "config " .. master
  version = ngx.shared.kong:incr(version_key, 1, 0)
  ngx.shared.kong:set(config_key, cjson.encode(options.config))
  return kong
end


-- --- Workers

--- Calls a plugin outside of requests; its errors are logged.
local function call_worker(plugin, phase, argument)
  local f = plugin.handler[phase]
  if not f then
    return
  end
  ngx.ctx.KONG_PLUGIN = { name = plugin.name }
  local ok, err = pcall(f, plugin.handler, argument)
  if not ok then
    log.err("failed to execute plugin '", plugin.name, ":", phase, "' (", err, ")")
  end
  ngx.ctx.KONG_PLUGIN = nil
end


local function configure(lists)
  if options.flavour == "3.4" then
    return
  end
  for _, plugin in ipairs(plugins) do
    local configs = lists[plugin.name]
    for _, conf in ipairs(configs or {}) do
      vault.update(conf)
    end
    call_worker(plugin, "configure", configs)
  end
end


local function acknowledge()
  ngx.shared.kong:set(version_key .. ngx.worker.id(), version)
end


--- Forgets what was cached of entities: all of it, and with a database the consumers that were, or are.
local function forget(before, after)
  if not options.database then
    return cache.purge()
  end
  for _, consumers in ipairs({ before.consumers, after.consumers }) do
    for _, consumer in ipairs(consumers) do
      cache:invalidate(kong.db.consumers:cache_key(consumer.id))
    end
  end
end


--- Takes a newer configuration, without a request: requests under way keep what they have, and those that come while
-- plugins configure themselves still get the old one.
local function follow(premature)
  local newest = ngx.shared.kong:get(version_key)
  if premature or newest == version then
    return
  end
  version = newest
  local before = entities
  entities = parse(cjson.decode(ngx.shared.kong:get(config_key)))
  forget(before, entities)
  local found, lists = instantiate()
  configure(lists)
  instances = found
  acknowledge()
end


function _M.init_worker()
  ngx.ctx.KONG_PHASE = "init_worker"
  entities = parse(cjson.decode(ngx.shared.kong:get(config_key)))
  local lists
  instances, lists = instantiate()
  for _, plugin in ipairs(plugins) do
    call_worker(plugin, "init_worker")
  end
  configure(lists)
  acknowledge()
  ngx.timer.every(0.05, follow)
end


-- --- Requests

--- The configuration of an instance, for a request.
local function of(instance)
  return options.rebuild and configuration(instance.row) or instance.conf
end


--- Calls a plugin in a phase, with the secrets of now.
local function call(name, conf, phase, via)
  local ctx = ngx.ctx
  ctx.KONG_PLUGIN = { name = name, conf = vault.update(conf) }
  local handler = by_name[name].handler
  local ok, err
  if via then
    ok, err = via(handler[phase], handler, conf)
  else
    handler[phase](handler, conf)
  end
  ctx.KONG_PLUGIN = nil
  return ok, err
end


--- Calls the plugins that are configured for everything.
local function call_global(phase)
  ngx.ctx.KONG_PHASE = phase
  for _, plugin in ipairs(plugins) do
    local instance = (instances[plugin.name] or {}).global
    if instance and plugin.handler[phase] then
      call(plugin.name, of(instance), phase)
    end
  end
end


function _M.certificate()
  if options.asks then
    tls.request_client_certificate()
  end
  call_global("certificate")
end


function _M.rewrite()
  contexts[ngx.var.kong_request] = ngx.ctx
  call_global("rewrite")
end


local function route_of(path)
  for _, one in ipairs(entities.paths) do
    if sub(path, 1, #one.path) == one.path then
      return one.route
    end
  end
end


local function service_of(route)
  for _, service in ipairs(entities.services) do
    if type(route.service) == "table" and service.id == route.service.id then
      return service
    end
  end
end


--- The plugins of a request, each with its most specific configuration; only global ones without a route.
local function collect(route, service)
  local collected = {}
  for _, plugin in ipairs(plugins) do
    local own = instances[plugin.name] or {}
    local instance = route and own[route.id] or service and own[service.id] or own.global
    if instance then
      insert(collected, { name = plugin.name, conf = of(instance) })
    end
  end
  return collected
end


--- Runs a plugin to its end, or until kong.response.exit() stops it.
local function run(f, handler, conf)
  -- In a variable, and no tail call: nothing else refers to it while it waits, and it would be collected.
  local co = coroutine_create(f)
  local ok, err = coroutine_resume(co, handler, conf)
  return ok, err
end


function _M.access()
  local ctx = ngx.ctx
  ctx.KONG_PHASE = "access"
  local route = route_of(pdk.normalized(ngx.var.uri))
  if not route then
    ctx.KONG_PLUGINS = {}
    return pdk.send { status = 404, body = { message = "no Route matched with those values" } }
  end
  ctx.KONG_ROUTE, ctx.KONG_SERVICE = route, service_of(route)
  ctx.KONG_PLUGINS = collect(route, ctx.KONG_SERVICE)
  -- Later phases run for all of them, whoever ends the request here.
  for _, plugin in ipairs(ctx.KONG_PLUGINS) do
    if by_name[plugin.name].handler.access and not ctx.KONG_ANSWER then
      local ok, err = call(plugin.name, plugin.conf, "access", run)
      if not ok then
        log.err(err)
        ctx.KONG_ANSWER = { status = 500, body = { message = "An unexpected error occurred" } }
      end
    end
  end
  if ctx.KONG_ANSWER then
    return pdk.send(ctx.KONG_ANSWER)
  end
end


local function call_collected(phase)
  local ctx = ngx.ctx
  ctx.KONG_PHASE = phase
  for _, plugin in ipairs(ctx.KONG_PLUGINS or {}) do
    if by_name[plugin.name].handler[phase] then
      call(plugin.name, plugin.conf, phase)
    end
  end
end


function _M.header_filter() call_collected("header_filter") end
function _M.body_filter() call_collected("body_filter") end


function _M.log()
  call_collected("log")
  contexts[ngx.var.kong_request or ""] = nil
  local file = io_open(options.serialized, "a")
  file:write(cjson.encode(log.serialize()), "\n")
  file:close()
end


--- Where nginx answers by itself: plugins get the later phases of a request, even if none of them saw it before.
function _M.handle_error()
  ngx.ctx = contexts[ngx.var.kong_request or ""] or {}
  local ctx = ngx.ctx
  ctx.KONG_PHASE = "error"
  ctx.KONG_PLUGINS = ctx.KONG_PLUGINS or collect()
  ngx.header["Content-Type"] = "application/json; charset=utf-8"
  ngx.print(cjson.encode { message = ngx.status < 500 and "Bad request" or
    "An invalid response was received from the upstream server" })
end


--- The groups that a consumer has as ACLs.
function _M.groups_of(id)
  local groups = {}
  for i, acl in ipairs(entities.groups[id] or {}) do
    groups[i] = acl.group
  end
  return groups
end


-- --- Beside requests: the Status API, and what tests do to the host

function _M.status()
  for _, plugin in ipairs(plugins) do
    local route = plugin.status[ngx.var.uri]
    if route then
      local method = route[ngx.req.get_method()]
      if not method then
        return ngx.exit(405)
      end
      return method({})
    end
  end
  return ngx.exit(404)
end


--- Waits until all workers follow.
local function followed()
  for _ = 1, 200 do
    local n = 0
    for id = 0, ngx.worker.count() - 1 do
      n = n + (ngx.shared.kong:get(version_key .. id) == ngx.shared.kong:get(version_key) and 1 or 0)
    end
    if n == ngx.worker.count() then
      return true
    end
    ngx.sleep(0.05)
  end
end


local function check_followed()
  return not followed() and { ["@entity"] = { "a worker does not follow" } } or nil
end


local CONTROL = {
  ready = check_followed,
  errors = function(config)
    local _, errors = parse(config)
    return errors
  end,
  config = function(config)
    local parsed, errors = parse(config)
    if not parsed then
      return errors
    end
    ngx.shared.kong:set(config_key, cjson.encode(config))
    ngx.shared.kong:incr(version_key, 1)
    return check_followed()
  end,
  secrets = function(values)
    for resource, value in pairs(values) do
      ngx.shared.kong:set("vault:" .. vault.variable(resource), value)
    end
  end,
}


--- POST /_kong/NAME with JSON: the answer is { errors = ... }
function _M.control(name)
  ngx.req.read_body()
  ngx.print(cjson.encode({ errors = CONTROL[name](cjson.decode(ngx.req.get_body_data())) or null }))
end


return _M
