--- kong.log: `[kong] FILE:LINE [PLUGIN] MESSAGE`.

local strict = require "kong.strict"
local errlog = require "ngx.errlog"

local concat = table.concat
local format = string.format
local getinfo = debug.getinfo
local getmetatable = getmetatable
local ipairs = ipairs
local match = string.match
local ngx = ngx
local pcall = pcall
local select = select
local tostring = tostring

local LEVELS = { "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug" }


--- The plugin that runs now, in a phase of a request.
local function plugin_name()
  local ok, ctx = pcall(function() return ngx.ctx end)
  return ok and ctx.KONG_PLUGIN and "[" .. ctx.KONG_PLUGIN.name .. "] " or ""
end


local function logger(level)
  return function(...)
    local words = { ... }
    for i = 1, select("#", ...) do
      words[i] = tostring(words[i])
    end
    local info = getinfo(2, "Sl") or { short_src = "?", currentline = 0 }
    errlog.raw_log(level, format("[kong] %s:%d %s%s", match(info.short_src, "[^/]*$"), info.currentline, plugin_name(),
                                 concat(words)))
  end
end


local _M = strict("kong.log", {})
for _, name in ipairs(LEVELS) do
  _M[name] = logger(ngx[name:upper()])
end
-- kong.log() itself logs at `notice`.
getmetatable(_M).__call = (function()
  local notice = logger(ngx.NOTICE)
  return function(_, ...) return notice(...) end
end)()

return _M
