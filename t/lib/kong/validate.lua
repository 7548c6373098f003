--- What becomes of an entity between the configuration and a plugin: defaults are filled in, it is checked, in the
-- words of Kong, and it comes out of the store.

local log = require "kong.log"
local vault = require "kong.vault"

local concat = table.concat
local floor = math.floor
local format = string.format
local getmetatable = getmetatable
local huge = math.huge
local insert = table.insert
local ipairs = ipairs
local is_reference = vault.is_reference
local match = string.match
local md5 = ngx.md5
local next = next
local now = ngx.now
local null = ngx.null
local pairs = pairs
local random = math.random
local re_find = ngx.re.find
local re_match = ngx.re.match
local setmetatable = setmetatable
local sub = string.sub
local tostring = tostring
local type = type

local UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

local _M = {}

local EXPECTED = {
  array = "expected an array", set = "expected a set", map = "expected a map", record = "expected a record",
  string = "expected a string", number = "expected a number", boolean = "expected a boolean",
  integer = "expected an integer", foreign = "expected a record",
}


--- A sequence, and nothing else.
local function is_sequence(value)
  if type(value) ~= "table" then
    return false
  end
  local n = 0
  for _ in pairs(value) do
    n = n + 1
    if value[n] == nil then
      return false
    end
  end
  return true
end


local function is_integer(value)
  return type(value) == "number" and floor(value) == value and value ~= huge and value ~= -huge
end


local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local result = {}
  for k, v in pairs(value) do
    result[k] = copy(v)
  end
  return setmetatable(result, getmetatable(value))
end


local function is_empty(value)
  return value == nil or value == null or value == "" or type(value) == "table" and next(value) == nil
end


--- The value at a path such as "redis.host".
local function at(record, path)
  for name in path:gmatch("[^.]+") do
    if type(record) ~= "table" then
      return nil
    end
    record = record[name]
  end
  return record
end


local function put(record, path, value)
  local head, rest = match(path, "^([^.]+)%.(.+)$")
  if not head then
    record[path] = value
    return
  end
  record[head] = type(record[head]) == "table" and record[head] or {}
  put(record[head], rest, value)
end


--- A UUID, the same one for the same text; a random one without.
function _M.uuid(text)
  local hex = md5(text or tostring(random()) .. tostring({}) .. now())
  return (hex:gsub("^(" .. ("%x"):rep(8) .. ")(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)", "%1-%2-%3-%4-"))
end


function _M.is_uuid(text)
  return type(text) == "string" and re_find(text, UUID, "ijo") ~= nil
end


-- What is checked of a value of the right type, in this order: name, function, and what it complains.
local function length(complaint, holds)
  return function(value, n)
    local len = #value
    if len == 0 and type(value) == "table" then
      for _ in pairs(value) do
        len = len + 1
      end
    end
    return holds(len, n), format(complaint, n)
  end
end

local function among(value, options)
  for _, option in ipairs(options) do
    if value == option then
      return true
    end
  end
  return false
end

--- Of a list of patterns none that matches, or none that does not.
local function matches(wrong)
  return function(value, list)
    for _, one in ipairs(list) do
      if (match(value, one.pattern) ~= nil) == wrong then
        return false, one.err or "invalid value: " .. value
      end
    end
    return true
  end
end

local VALIDATORS = {
  { "eq", function(value, wanted) return value == wanted, "value must be " .. tostring(wanted) end },
  { "ne", function(value, unwanted) return value ~= unwanted, "value must not be " .. tostring(unwanted) end },
  { "not_one_of", function(value, options)
    return not among(value, options), "must not be one of: " .. concat(options, ", ")
  end },
  { "one_of", function(value, options) return among(value, options), "expected one of: " .. concat(options, ", ") end },
  { "gt", function(value, limit) return value > limit, "value must be greater than " .. limit end },
  { "timestamp", function(value) return value > 0, "expected a valid timestamp" end },
  { "uuid", function(value) return _M.is_uuid(value), "expected a valid UUID" end },
  { "is_regex", function(value)
    local _, err = re_match("any string", value)
    return err == nil, "not a valid regex: " .. value
  end },
  { "between", function(value, limits)
    return value >= limits[1] and value <= limits[2], format("value should be between %d and %d", limits[1], limits[2])
  end },
  { "len_eq", length("length must be %d", function(len, n) return len == n end) },
  { "len_min", length("length must be at least %d", function(len, n) return len >= n end) },
  { "len_max", length("length must be at most %d", function(len, n) return len <= n end) },
  { "starts_with", function(value, start) return sub(value, 1, #start) == start, "should start with: " .. start end },
  { "not_match", function(value, pattern) return not match(value, pattern), "invalid value: " .. value end },
  { "match_none", matches(true) },
  { "match", function(value, pattern) return match(value, pattern), "invalid value: " .. value end },
  { "match_all", matches(false) },
  { "match_any", function(value, list)
    for _, pattern in ipairs(list.patterns) do
      if match(value, pattern) then
        return true
      end
    end
    return false, list.err or "invalid value: " .. value
  end },
  { "contains", function(value, wanted) return among(wanted, value), "expected to contain: " .. tostring(wanted) end },
  { "custom_validator", function(value, f)
    local ok, err = f(value)
    return ok, err or "failed validating: " .. tostring(value)
  end },
}


-- --- What is missing is filled in

local fill_record

--- The value of a field as it is stored: defaults, and null where there is nothing.
local function fill(field, value)
  if field.type == "record" then
    if value ~= null and (value ~= nil or field.required) then
      if value == nil then
        value = copy(field.default) or {}
      end
      return type(value) == "table" and fill_record(field, value) or value
    end
  elseif type(value) == "table" then
    if field.type == "set" and is_sequence(value) then
      local seen, unique = {}, {}
      for _, v in ipairs(value) do
        if not seen[v] then
          seen[v] = true
          insert(unique, v)
        end
      end
      value = unique
    end
    local inner = field.type ~= "foreign" and (field.elements or field.values)
    if inner then
      for k, v in pairs(value) do
        value[k] = fill(inner, v)
      end
    end
  end
  if value ~= nil then
    return value
  end
  if field.default ~= nil then
    return copy(field.default)
  end
  if not field.required then
    return null
  end
end


function fill_record(record, input)
  local output = copy(input)
  for _, entry in ipairs(record.fields) do
    local name, field = next(entry)
    if field.auto and field.uuid and output[name] == nil then
      output[name] = _M.uuid()
    end
    output[name] = fill(field, output[name])
  end
  return output
end


-- --- Validation

local validate_field

local function field_at(record, path)
  local field = record
  for name in path:gmatch("[^.]+") do
    field = field.by_name and field.by_name[name]
    if not field then
      return nil
    end
  end
  return field
end


--- `conditional`: a field with the attributes of a match in place of its own.
local function matching(own, field)
  return setmetatable(copy(own), { __index = field })
end


-- The checks between fields: function(values, argument, record, errors), and whether they run with absent fields and
-- with wrong ones.
local function counting(absent, wrong, complaint, holds)
  return { absent = absent, wrong = wrong, f = function(values, names)
    local n = 0
    for _, name in ipairs(names) do
      n = n + (is_empty(at(values, name)) and 0 or 1)
    end
    return holds(n, #names), complaint .. ": '" .. concat(names, "', '") .. "'"
  end }
end

local ENTITY_CHECKS = {
  at_least_one_of = counting(true, true, "at least one of these fields must be non-empty",
                             function(n) return n > 0 end),
  only_one_of = counting(false, true, "exactly one of these fields must be non-empty",
                         function(n) return n == 1 end),
  mutually_required = counting(true, false, "all or none of these fields must be set",
                               function(n, all) return n == 0 or n == all end),
  mutually_exclusive = counting(true, false, "only one or none of these fields must be set",
                                function(n) return n <= 1 end),
  conditional = { wrong = true, sources = { "if_field", "then_field" }, needs = "if_field",
    f = function(values, check, record, errors)
      local condition, value = at(values, check.if_field), at(values, check.then_field)
      if not validate_field(matching(check.if_match, field_at(record, check.if_field)), condition) then
        return true
      end
      local complaint = format("failed conditional validation given value of field '%s'", check.if_field)
      if value == nil then
        value = null
      end
      if value == null and check.then_match.required then
        put(errors, check.then_field, "required field missing")
        return nil, complaint
      end
      local ok, err = validate_field(matching(check.then_match, field_at(record, check.then_field)), value)
      if ok then
        return true
      end
      put(errors, check.then_field, err)
      return nil, check.then_err and format(check.then_err, check.if_field) or complaint
    end },
  custom_entity_check = { sources = { "field_sources" }, needs = "field_sources",
    f = function(values, check) return check.fn(values) end },
}


--- The fields that a check names, and those that it cannot do without; nil where there is no such check.
function _M.fields_of_check(check, argument)
  local kind = ENTITY_CHECKS[check]
  if not kind then
    return nil
  elseif not kind.sources then
    return argument, argument
  end
  local all = {}
  for _, source in ipairs(kind.sources) do
    for _, name in ipairs(type(argument[source]) == "table" and argument[source] or { argument[source] }) do
      insert(all, name)
    end
  end
  local needed = argument[kind.needs]
  return all, type(needed) == "table" and needed or { needed }
end


local function run_check(record, name, argument, input, errors)
  local kind = ENTITY_CHECKS[name]
  local names, needed = _M.fields_of_check(name, argument)
  local values, any, wrong, missing = {}, false, false, {}
  for _, path in ipairs(names) do
    local value = at(input, path)
    if value ~= nil then
      any = true
      local field = field_at(record, path)
      if field.type == "string" and field.referenceable and is_reference(value) then
        return
      end
    elseif among(path, needed) and not kind.absent and not argument.run_with_missing_fields then
      insert(missing, path)
    end
    wrong = wrong or errors[path] ~= nil
    put(values, path, value)
  end
  if wrong and not kind.wrong and not argument.run_with_invalid_fields or not any and not kind.absent then
    return
  end
  for _, path in ipairs(missing) do
    put(errors, path, "field required for entity check")
  end
  if missing[1] then
    return
  end
  local ok, err = kind.f(values, argument, record, errors)
  if not ok then
    errors["@entity"] = errors["@entity"] or {}
    insert(errors["@entity"], err or "failed entity check: " .. name)
  end
end


local function validate_record(record, input)
  local errors, _ = {}
  for name, value in pairs(input) do
    local field = record.by_name[name]
    if field then
      _, errors[name] = validate_field(field, value)
    else
      errors[name] = "unknown field"
    end
  end
  for name, field in pairs(record.by_name) do
    if field.required and (input[name] == nil or input[name] == null) then
      errors[name] = "required field missing"
    end
  end
  for _, check in ipairs(record.entity_checks or {}) do
    local name, argument = next(check)
    run_check(record, name, argument, input, errors)
  end
  if next(errors) then
    return nil, errors
  end
  return true
end


local function validate_elements(field, value)
  local errors = {}
  for i, element in ipairs(value) do
    local ok, err = validate_field(field.elements, element)
    if not ok then
      errors[i] = err
    end
  end
  return next(errors) == nil, errors
end


--- @treturn boolean|nil
-- @treturn nil|string|table the error, or those of the elements or fields
function validate_field(field, value)
  local kind = field.type
  if value == null then
    if field.ne == null then
      return nil, field.err or "value must not be null"
    elseif field.eq ~= nil and field.eq ~= null then
      return nil, "value must be " .. tostring(field.eq)
    elseif field.required then
      return nil, "required field missing"
    end
    return true
  elseif field.eq == null then
    return nil, field.err or "value must be null"
  end
  local ok, err
  if kind == "array" or kind == "set" then
    if not is_sequence(value) then
      return nil, EXPECTED[kind]
    end
    ok, err = validate_elements(field, value)
  elseif kind == "map" then
    ok, err = type(value) == "table", EXPECTED.map
    for k, v in pairs(ok and value or {}) do
      ok, err = validate_field(field.keys, k)
      if ok then
        ok, err = validate_field(field.values, v)
      end
      if not ok then
        break
      end
    end
  elseif kind == "record" then
    ok, err = type(value) == "table", EXPECTED.record
    if ok then
      ok, err = validate_record(field, fill_record(field, value))
    end
  elseif kind == "foreign" then
    ok, err = type(value) == "table" and _M.is_uuid(value.id), { id = "missing primary key" }
  elseif kind == "integer" then
    ok, err = is_integer(value), EXPECTED.integer
  else
    ok, err = type(value) == kind, EXPECTED[kind]
    -- Whatever else its field demands: what the reference stands for is not known yet.
    if ok and kind == "string" and field.referenceable and is_reference(value) then
      return true
    end
  end
  if not ok then
    return nil, err
  end
  for _, validator in ipairs(VALIDATORS) do
    local argument = field[validator[1]]
    -- A string that may be empty says so.
    if validator[1] == "len_min" and argument == nil and kind == "string" then
      argument = 1
    end
    if argument ~= nil and argument ~= false then
      ok, err = validator[2](value, argument)
      if not ok then
        return nil, field.err or err
      end
    end
  end
  return true
end


-- --- What a plugin gets

local select_record

local function resolve(reference)
  local value, err = vault.get(reference)
  if not value then
    log.warn("unable to resolve reference ", reference, " (", err, ")")
  end
  return value or ""
end


--- A value as it comes out of the store: no nulls, references resolved. `refs` takes the references under `name`.
local function select_field(field, value, refs, name)
  local kind = field.type
  if value == null then
    return nil
  elseif kind == "record" then
    return select_record(field, value)
  elseif kind == "string" and field.referenceable and is_reference(value) then
    refs[name] = value
    return resolve(value)
  elseif kind == "array" or kind == "set" or kind == "map" then
    local inner, inner_refs = field.elements or field.values, {}
    for k, v in pairs(value) do
      value[k] = select_field(inner, v, inner_refs, k)
    end
    refs[name] = next(inner_refs) and inner_refs or nil
  end
  return value
end


function select_record(record, data)
  local refs = {}
  for name, field in pairs(record.by_name) do
    local value = select_field(field, data[name], refs, name)
    if value == "" and field.type == "string" and (field.len_min or 1) > 0 and not refs[name] then
      value = nil
    end
    data[name] = value
  end
  data["$refs"] = next(refs) and refs or nil
  return data
end


_M.EXPECTED, _M.among, _M.copy, _M.field_at = EXPECTED, among, copy, field_at
_M.is_integer, _M.is_sequence = is_integer, is_sequence
_M.fill, _M.validate, _M.validate_field, _M.select = fill_record, validate_record, validate_field, select_record

return _M
