--- Counts the engines that are made, and those that there are. Installed in the master, before the plugins are loaded.

local keybound = require "resty.keybound"
local cjson = require "cjson"

local collectgarbage = collectgarbage
local ngx = ngx
local pairs = pairs
local setmetatable = setmetatable

local _M = {}

local made = 0
local live = setmetatable({}, { __mode = "k" })
-- What there was of it in the master.
local inherited


function _M.install()
  local new = keybound.new
  keybound.new = function(...)
    local engine, err = new(...)
    if engine then
      made = made + 1
      live[engine] = true
    end
    return engine, err
  end
end


--- At the end of init_by_lua.
function _M.fork()
  inherited = made
end


--- Answers with the counts of this worker, after a full collection.
function _M.page()
  collectgarbage()
  collectgarbage()
  local n = 0
  for _ in pairs(live) do
    n = n + 1
  end
  ngx.print(cjson.encode { made = made - inherited, live = n, inherited = inherited, pid = ngx.worker.pid(),
                           workers = ngx.worker.count() })
end


return _M
