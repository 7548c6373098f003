--- strict(WHAT, NAMES): a table whose other names raise an error that says so. Kong gives nil there.

local error = error
local setmetatable = setmetatable
local tostring = tostring

return function(what, names)
  return setmetatable(names, {
    __index = function(_, name)
      error(what .. "." .. tostring(name) .. ": the host of the tests has no such name", 2)
    end,
  })
end
