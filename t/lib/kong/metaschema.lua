--- What a schema may say: it is checked as Kong 3.4 checks it before it loads a plugin.

local validate = require "kong.validate"

local error = error
local find = string.find
local format = string.format
local insert = table.insert
local ipairs = ipairs
local match = string.match
local next = next
local null = ngx.null
local pairs = pairs
local sort = table.sort
local tostring = tostring
local type = type
local EXPECTED = validate.EXPECTED
local field_at = validate.field_at
local is_integer = validate.is_integer
local is_sequence = validate.is_sequence
local validate_field = validate.validate_field

-- Attribute of a field to the kind of value that it has. (Kong has `shorthand_fields`, `transformations` and
-- `mutually_exclusive_subsets`, too.)
local ATTRIBUTES = {
  type = "string", required = "boolean", default = "any", description = "description", abstract = "boolean",
  auto = "boolean", encrypted = "boolean", referenceable = "boolean", immutable = "boolean", unique = "boolean",
  err = "string", reference = "string", on_delete = "string", generate_admin_api = "boolean",
  unique_across_ws = "boolean", elements = "field", keys = "field", values = "field", fields = "fields",
  entity_checks = "entity_checks",
  between = "limits", eq = "any", ne = "any", gt = "number", len_eq = "integer", len_min = "integer",
  len_max = "integer", match = "string", not_match = "string", match_all = "patterns", match_none = "patterns",
  match_any = "alternatives", starts_with = "string", one_of = "list", not_one_of = "list", contains = "any",
  is_regex = "boolean", timestamp = "boolean", uuid = "boolean", custom_validator = "function",
}
-- The types that an attribute is for, where it is not for all.
local ONLY_FOR = {
  between = "integer number", len_eq = "array set string map", match = "string", one_of = "string number integer",
  contains = "array set", is_regex = "string", timestamp = "number integer", uuid = "string",
  unique = "string number integer foreign", unique_across_ws = "string number integer foreign",
  abstract = "string number integer record array set map",
}
local TYPES = {
  array = "elements", set = "elements", map = "keys values", record = "fields", string = "", number = "", boolean = "",
  integer = "", foreign = "reference",
}


--- Raises an error in the words of Kong.
local function complain(path, message, ...)
  error("schema violation (" .. path .. ": " .. format(message, ...) .. ")", 0)
end

local check_field, check_fields

-- What the value of an attribute must be, where a type does not say it: returns what is wrong.
local KINDS = {
  any = function() end,
  integer = function(value) return not is_integer(value) and EXPECTED.integer end,
  description = function(value)
    if type(value) ~= "string" then
      return EXPECTED.string
    end
    return #value < 10 and "length must be at least 10" or #value > 500 and "length must be at most 500"
  end,
  list = function(value) return not is_sequence(value) and EXPECTED.array end,
  limits = function(value)
    local ok = is_sequence(value) and #value == 2 and type(value[1]) == "number" and type(value[2]) == "number"
    return not ok and "length must be 2"
  end,
  patterns = function(value)
    for _, one in ipairs(is_sequence(value) and value or { {} }) do
      if type(one) ~= "table" or type(one.pattern) ~= "string" then
        return "required field missing"
      end
    end
  end,
  alternatives = function(value)
    return (type(value) ~= "table" or not is_sequence(value.patterns)) and "required field missing"
  end,
  field = function(value, path) check_field(path, value) end,
  fields = function(value, path) check_fields(match(path, "^(.*)%.fields$"), value) end,
  entity_checks = function(value, path, record)
    for i, check in ipairs(is_sequence(value) and value or { false }) do
      local name, argument = next(check or {})
      if not name or next(check, name) or type(argument) ~= "table" then
        return "each check must be a table of one name and its argument"
      end
      local fields = validate.fields_of_check(name, argument)
      if not fields then
        complain(path, "%d: %s: unknown field", i, name)
      end
      for _, field in ipairs(fields) do
        if not field_at(record, field) then
          complain(path, "%d: invalid field name: %s", i, field)
        end
      end
    end
  end,
}


function check_fields(path, fields)
  if not is_sequence(fields) then
    complain(path, EXPECTED.array)
  end
  for _, entry in ipairs(fields) do
    local name, field = next(type(entry) == "table" and entry or {})
    if type(entry) ~= "table" then
      complain(path, "each entry in fields must be a sub-table")
    elseif name == nil then
      complain(path, "field entry table is empty")
    elseif next(entry, name) ~= nil then
      complain(path, "length must be 1")
    elseif type(name) ~= "string" then
      complain(path, "each key in fields must be a string")
    end
    check_field(path .. "." .. name, field)
  end
end


function check_field(path, field)
  if type(field) ~= "table" then
    complain(path, "'%s' must be a table", match(path, "[^.]+$"))
  elseif not field.type then
    complain(path, "missing type declaration")
  elseif not TYPES[field.type] then
    complain(path, "invalid type: %s", tostring(field.type))
  end
  for name in TYPES[field.type]:gmatch("%S+") do
    if not field[name] and not field.abstract then
      complain(path, "field of type '%s' must declare '%s'", field.type, name)
    end
  end
  local names = {}
  for name in pairs(field) do
    insert(names, name)
  end
  -- `entity_checks` after the fields that they name.
  sort(names, function(a, b) return (a == "entity_checks" and "~" or a) < (b == "entity_checks" and "~" or b) end)
  for _, name in ipairs(names) do
    local kind, only = ATTRIBUTES[name], ONLY_FOR[name]
    if name == "by_name" then
      kind = "any"
    elseif not kind then
      complain(path .. "." .. tostring(name), "unknown field")
    elseif only and not find(" " .. only .. " ", " " .. field.type .. " ", 1, true) then
      complain(path, "field of type '%s' cannot have attribute '%s'", field.type, name)
    end
    local wrong
    if KINDS[kind] then
      wrong = KINDS[kind](field[name], path .. "." .. name, field)
    elseif type(field[name]) ~= kind then
      wrong = EXPECTED[kind] or "expected a " .. kind
    end
    if wrong then
      complain(path .. "." .. name, wrong)
    end
  end
  if field.default ~= nil and field.default ~= null then
    local ok, err = validate_field(field, field.default)
    if not ok then
      complain(path .. ".default", "%s", type(err) == "table" and "invalid" or err)
    end
  end
end


return { check = check_field, complain = complain }
