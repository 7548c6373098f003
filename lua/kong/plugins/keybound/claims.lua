--- Reads claims of a token, and what they may name.

local find = string.find
local floor = math.floor
local format = string.format
local ipairs = ipairs
local type = type

-- From here on a Lua number may stand for several integers.
local EXACT = 2 ^ 53
local UUID = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"

local _M = {}


--- The claim at a path.
-- @tparam table claims decoded
-- @tparam {string,...} path names, from the outside in
-- @return the value, nil where there is none
function _M.at(claims, path)
  local value = claims
  for _, name in ipairs(path) do
    if type(value) ~= "table" then
      return nil
    end
    value = value[name]
  end
  return value
end


--- A claim that names somebody, as text.
-- @treturn string|nil nil for what cannot be told exactly, in a header too, and for what is no string and no integer
function _M.text(value)
  if type(value) == "string" then
    return value ~= "" and not find(value, "%c") and not find(value, "^ ") and not find(value, " $") and value or nil
  end
  if type(value) == "number" and value == floor(value) and value > -EXACT and value < EXACT then
    return format("%d", value)
  end
  return nil
end


function _M.is_uuid(text)
  return find(text, UUID) ~= nil
end


--- A claim that is a list: an array of strings, or words with spaces between them.
-- @treturn {string,...} empty for all else
function _M.list(value)
  local words = {}
  if type(value) == "string" then
    for word in value:gmatch("[^ ]+") do
      words[#words + 1] = word
    end
  elseif type(value) == "table" then
    for _, word in ipairs(value) do
      if type(word) == "string" then
        words[#words + 1] = word
      end
    end
  end
  return words
end


return _M
