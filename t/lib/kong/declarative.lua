--- A declarative configuration: checked as a whole, and taken apart into entities.

local schema = require "kong.schema"

local concat = table.concat
local insert = table.insert
local ipairs = ipairs
local next = next
local null = ngx.null
local pairs = pairs
local sort = table.sort
local tostring = tostring
local type = type
local unpack = unpack

local _M = {}

local UUID = { type = "string", uuid = true, auto = true }
local STRING = { type = "string" }
local TAGS = { type = "set", elements = STRING }
local FORMATS = { ["1.1"] = true, ["2.1"] = true, ["3.0"] = true }

-- Entities whose members are checked by a schema, and those that they hold, to the name of the member that points back.
local ENTITIES = {
  services = schema.new {
    fields = {
      { id = UUID }, { name = STRING }, { url = STRING }, { host = STRING }, { tags = TAGS },
      { port = { type = "integer", between = { 0, 65535 } } }, { protocol = STRING }, { path = STRING },
    },
  },
  routes = schema.new {
    fields = {
      { id = UUID }, { name = STRING }, { tags = TAGS }, { service = { type = "foreign", reference = "services" } },
      { paths = { type = "array", elements = { type = "string", starts_with = "/" } } },
      { protocols = { type = "set", elements = STRING } }, { strip_path = { type = "boolean" } },
    },
  },
  consumers = schema.new {
    fields = {
      { id = UUID }, { username = STRING }, { custom_id = STRING }, { tags = TAGS },
      { acls = { type = "array", elements = {
          type = "record", fields = { { group = { type = "string", required = true } } } } } },
    },
    entity_checks = { { at_least_one_of = { "custom_id", "username" } } },
  },
  certificates = schema.new {
    fields = {
      { id = UUID }, { cert = { type = "string", required = true, referenceable = true } }, { tags = TAGS },
      { key = { type = "string", required = true, referenceable = true } },
    },
  },
}
local CHILDREN = { services = { routes = "service", plugins = "service" }, routes = { plugins = "route" },
                   consumers = { plugins = "consumer" } }
local ORDER = { "services", "routes", "consumers", "certificates", "plugins" }
local TOP = { _format_version = true, _transform = true, _comment = true }
for _, kind in ipairs(ORDER) do
  TOP[kind] = true
end


--- The error at a path such as { "plugins", 1 }; the same table each time.
local function errors_at(errors, path)
  for _, name in ipairs(path) do
    errors[name] = errors[name] or {}
    errors = errors[name]
  end
  return errors
end


local function merge(errors, more)
  for name, err in pairs(more) do
    errors[name] = err
  end
end


local add


--- One entity, with those that it holds. `parents`: { service = ... }
local function add_one(state, kind, item, path, parents)
  if type(item) ~= "table" then
    errors_at(state.errors, path)["@entity"] = { "expected a record" }
    return
  end
  local own, children = {}, {}
  for name, value in pairs(item) do
    local up = CHILDREN[kind] and CHILDREN[kind][name]
    local target = up and children or own
    target[name] = value
  end
  local called = own.name or own.username or own.custom_id or ""
  own.id = own.id or schema.uuid(concat({ kind, tostring(called), concat(path, ".") }, " "))
  for name, parent in pairs(parents) do
    own[name] = { id = parent.id }
  end
  -- By name, too.
  for _, name in ipairs({ "service", "route", "consumer" }) do
    local reference = own[name]
    local by = type(reference) == "table" and reference.name or reference
    for _, one in ipairs(state.entities[name .. "s"]) do
      if type(by) == "string" and (one.name == by or one.username == by) then
        own[name] = { id = one.id }
      end
    end
  end
  local entity, errors
  local checks = ENTITIES[kind]
  if kind == "plugins" then
    local plugin = type(own.name) == "string" and state.plugins[own.name]
    checks = plugin and plugin.schema
    if not checks then
      errors = { name = own.name == nil and "required field missing" or
        "plugin '" .. tostring(own.name) .. "' not enabled; add it to the 'plugins' configuration property" }
    end
  end
  if checks then
    entity, errors = checks:insert(own)
  end
  if errors then
    merge(errors_at(state.errors, path), errors)
    entity = own
  elseif kind ~= "plugins" then
    entity = checks:select(entity)
  end
  if kind == "consumers" then
    -- In Kong, too, a consumer does not hold its groups.
    state.entities.groups[entity.id], entity.acls = entity.acls or {}, nil
  end
  insert(state.entities[kind], entity)
  if kind == "plugins" and not errors then
    local route, service = entity.route, entity.service
    local scope = concat({ entity.name, route ~= null and route.id or "", service ~= null and service.id or "" }, " ")
    if state.scopes[scope] then
      errors_at(state.errors, path)["@entity"] = { "uniqueness violation: there is another one of this scope" }
    end
    state.scopes[scope] = true
  end
  for name, items in pairs(children) do
    add(state, name, items, path, { [CHILDREN[kind][name]] = entity })
  end
end


function add(state, kind, items, path, parents)
  for i, item in ipairs(type(items) == "table" and items or {}) do
    local here = { unpack(path) }
    insert(here, kind)
    insert(here, i)
    add_one(state, kind, item, here, parents)
  end
end


--- @tparam table config the configuration
-- @tparam table plugins those that are loaded, by name
-- @treturn table|nil lists of entities as they are stored: services, routes (longest path first), consumers,
--   certificates, plugins; groups by consumer's id
-- @treturn nil|table errors, nested as the configuration is
function _M.parse(config, plugins)
  local state = { plugins = plugins, entities = {}, errors = {}, scopes = {} }
  for name in pairs(config) do
    if not TOP[name] then
      state.errors[name] = "unknown field"
    end
  end
  if not FORMATS[config._format_version] then
    state.errors._format_version = config._format_version and "expected one of: 1.1, 2.1, 3.0" or
      "required field missing"
  end
  state.entities.groups = {}
  for _, kind in ipairs(ORDER) do
    state.entities[kind] = {}
  end
  for _, kind in ipairs(ORDER) do
    add(state, kind, config[kind], {}, {})
  end
  if next(state.errors) then
    return nil, state.errors
  end
  local paths = {}
  for _, route in ipairs(state.entities.routes) do
    for _, path in ipairs(route.paths or { "/" }) do
      insert(paths, { path = path, route = route })
    end
  end
  sort(paths, function(a, b) return #a.path > #b.path end)
  state.entities.paths = paths
  return state.entities
end


return _M
