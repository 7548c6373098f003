--- kong.cache: a value once loaded is the same table in its worker, and a copy of it in another; misses are remembered,
-- too. What cannot be JSON cannot be cached. Two workers may load the same value at once: Kong lets one of them wait.

local cjson = require "cjson"

local error = error
local ngx_now = ngx.now
local ngx_shared = ngx.shared
local pcall = pcall
local tostring = tostring
local type = type

local _M = {}

-- Of this worker: key to { value, expires, generation }. The generation is that of the last invalidation.
local own = {}


local function check_key(key)
  if type(key) ~= "string" then
    error("key must be a string", 3)
  end
end


local function generation(key)
  return ngx_shared.kong_db_cache:get("generation:" .. key) or 0
end


local function lookup(key)
  local entry = own[key]
  if entry and entry.generation == generation(key) and (entry.expires == 0 or entry.expires > ngx_now()) then
    return entry
  end
  own[key] = nil
  local text = ngx_shared.kong_db_cache:get("value:" .. key)
  if text then
    entry = cjson.decode(text)
    entry.generation = generation(key)
    own[key] = entry
    return entry
  end
end


--- @return the value, or nil and a message where the callback failed
function _M.get(_, key, opts, callback, ...)
  check_key(key)
  opts = opts or {}
  if type(opts) ~= "table" then
    error("opts must be a table", 2)
  end
  if type(callback) ~= "function" then
    error("callback must be a function", 2)
  end
  local entry = lookup(key)
  if entry then
    return entry.value
  end
  local before = generation(key)
  local ok, value, err, ttl = pcall(callback, ...)
  if not ok then
    return nil, "failed to get from node cache: callback threw an error: " .. tostring(value)
  end
  if err then
    return nil, "failed to get from node cache: " .. tostring(err)
  end
  ttl = ttl or (value == nil and opts.neg_ttl or value ~= nil and opts.ttl) or 0
  if ttl < 0 then
    return value
  end
  entry = { value = value, expires = ttl == 0 and 0 or ngx_now() + ttl }
  local encoded, text = pcall(cjson.encode, entry)
  if not encoded then
    return nil, "failed to get from node cache: could not encode value: " .. text
  end
  if generation(key) == before then
    ngx_shared.kong_db_cache:set("value:" .. key, text, ttl)
  end
  entry.generation = before
  own[key] = entry
  return value
end


--- @treturn number|nil how long the value is still good, when there is one
-- @treturn nil|string message
-- @return the value
function _M.probe(_, key)
  check_key(key)
  local entry = lookup(key)
  if not entry then
    return nil
  end
  return entry.expires == 0 and 0 or entry.expires - ngx_now(), nil, entry.value
end


--- In all workers.
function _M.invalidate(_, key)
  check_key(key)
  ngx_shared.kong_db_cache:delete("value:" .. key)
  ngx_shared.kong_db_cache:incr("generation:" .. key, 1, 0)
end


--- In this worker: it still finds what the others share.
function _M.invalidate_local(_, key)
  check_key(key)
  own[key] = nil
  ngx_shared.kong_db_cache:delete("value:" .. key)
end


--- Forgets all that this worker has, and that workers share.
function _M.purge()
  own = {}
  ngx_shared.kong_db_cache:flush_all()
end


return _M
