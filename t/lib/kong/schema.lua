--- Schemas: of plugins, as their schema.lua has them, and of the other entities.

local metaschema = require "kong.metaschema"
local validate = require "kong.validate"

local insert = table.insert
local ipairs = ipairs
local next = next
local pairs = pairs
local setmetatable = setmetatable
local tostring = tostring
local type = type
local among = validate.among
local copy = validate.copy
local is_sequence = validate.is_sequence

local _M = { copy = copy, is_uuid = validate.is_uuid, uuid = validate.uuid }
local mt = { __index = _M }

-- The fields that a plugin has besides its `config`; its schema may say more about them.
local PLUGIN = {
  { id = { type = "string", uuid = true, auto = true } },
  { name = { type = "string", required = true } },
  { instance_name = { type = "string" } },
  { enabled = { type = "boolean", required = true, default = true } },
  { tags = { type = "set", elements = { type = "string" } } },
  { route = { type = "foreign", reference = "routes" } },
  { service = { type = "foreign", reference = "services" } },
  { consumer = { type = "foreign", reference = "consumers" } },
  { protocols = { type = "set", required = true, default = { "grpc", "grpcs", "http", "https" },
                  elements = { type = "string", one_of = { "grpc", "grpcs", "http", "https" } } } },
  { config = { type = "record", abstract = true } },
}


--- Gives records access to their fields by name. Records in a plugin's configuration are always there unless they say
-- that they are not required; elements are, too.
local function prepare(field, make_required)
  if type(field) ~= "table" then
    return
  end
  if field.type == "record" and make_required and field.required == nil then
    field.required = true
  end
  for _, name in ipairs({ "elements", "keys", "values" }) do
    if type(field[name]) == "table" then
      field[name].required = true
      prepare(field[name], false)
    end
  end
  if is_sequence(field.fields) then
    field.by_name = {}
    for _, entry in ipairs(field.fields) do
      for name, inner in pairs(type(entry) == "table" and entry or {}) do
        field.by_name[name] = inner
        prepare(inner, make_required)
      end
    end
  end
end


--- A schema of any entity: `{ fields = ..., entity_checks = ... }`.
function _M.new(definition)
  local self = copy(definition)
  self.type = "record"
  prepare(self, true)
  return setmetatable(self, mt)
end


--- A schema of a plugin: what its schema.lua returns. An error says what is wrong with it.
function _M.load(name, definition)
  for attribute in pairs(definition) do
    if not among(attribute, { "name", "fields", "entity_checks" }) then
      metaschema.complain(tostring(attribute), "unknown field")
    end
  end
  if definition.name ~= name then
    metaschema.complain("name", "must be the plugin's: %s", name)
  end
  local own = copy(definition)
  own.type = "record"
  prepare(own, true)
  own.name, own.required = nil, nil
  metaschema.check(name, own)
  local plugin = { fields = {}, entity_checks = own.entity_checks }
  for _, entry in ipairs(PLUGIN) do
    local field, parent = next(entry)
    local special = own.by_name[field]
    if special and special.type ~= parent.type then
      metaschema.complain(field, "cannot change type in a specialized field")
    elseif not special and parent.abstract then
      metaschema.complain(field, "abstract field was not specialized")
    end
    own.by_name[field] = nil
    insert(plugin.fields, { [field] = special or parent })
  end
  if next(own.by_name) then
    metaschema.complain((next(own.by_name)), "cannot create a new field")
  end
  return _M.new(plugin)
end


--- The entity as it is stored.
-- @treturn table|nil
-- @treturn nil|table errors, as the Admin API shows them
function _M.insert(self, entity)
  local filled = validate.fill(self, entity)
  local ok, errors = validate.validate(self, filled)
  if not ok then
    return nil, errors
  end
  return filled
end


--- A copy of a stored entity as a plugin sees it: absent members are nil, references are resolved.
function _M.select(self, entity)
  return validate.select(self, copy(entity))
end


return _M
