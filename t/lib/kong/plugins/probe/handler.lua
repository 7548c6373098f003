--- Runs the Lua that its configuration has for a phase, with `conf` and `self`: so tests ask what plugins get.

local loadstring = loadstring
local assert = assert
local ngx = ngx
local pairs = pairs

local _M = { PRIORITY = 1000, VERSION = "1.0.0" }

-- Where and when this file was loaded.
_M.loaded = { phase = ngx.get_phase(), pid = ngx.worker.pid(), pdk = pcall(function() return kong.request end) }


for _, phase in pairs({ "certificate", "rewrite", "access", "header_filter", "body_filter", "log" }) do
  _M[phase] = function(self, conf)
    if conf[phase] then
      assert(loadstring("local self, conf = ... " .. conf[phase], "=" .. phase))(self, conf)
    end
  end
end


function _M.init_worker()
  kong.log.notice("init_worker")
end


function _M.configure(_, configs)
  local names = {}
  for i, conf in pairs(configs or {}) do
    names[i] = conf.text or "-"
  end
  table.sort(names)
  kong.log.notice("configure: ", configs and table.concat(names, " ") or "nil")
end


return _M
