--- The shared store: what all workers, or all gateways, must see at once (replayed proofs, cached introspections).
--
--     local store = require "resty.keybound.store"
--     local one = assert(store.new("keybound"))                           -- lua_shared_dict keybound 10m;
--     local other = assert(store.new({ redis = { host = "10.0.0.5" } }))
--
-- Keys and values are byte strings. A store says "failed" where it does not know: never "absent", never "stored". Each
-- "failed" comes with a message; neither keys nor values are in it.
--
-- Redis must not evict: with another `maxmemory-policy` than `noeviction` what was added can be added again.

require "resty.core.shdict"

local concat = table.concat
local floor = math.floor
local format = string.format
local ipairs = ipairs
local ngx = ngx
local ngx_now = ngx.now
local ngx_null = ngx.null
local pairs = pairs
local pcall = pcall
local require = require
local setmetatable = setmetatable
local sha1_bin = ngx.sha1_bin
local sort = table.sort
local tostring = tostring
local type = type

-- Less holds a few hundred entries only, and every request that the engine must remember would fail.
local MIN_DICT_SIZE = 64 * 1024
local FLUSH_MAX = 128
-- For so long a full dict is not searched for expired entries again after none was found: it holds the lock.
local FLUSH_PAUSE = 1
-- For so long a Redis that failed is not asked again.
local REDIS_PAUSE = 1
-- Ends of messages about a connection that died.
local DEAD = { "closed$", "reset by peer$", "broken pipe$" }

local _M = { MIN_DICT_SIZE = MIN_DICT_SIZE }


local function check_key(key)
  if type(key) ~= "string" or key == "" then
    return "the key must be a string that is not empty"
  end
end


local function check_entry(key, value, ttl)
  if type(value) ~= "string" then
    return "the value must be a string"
  end
  -- 0 would mean for ever. Not `ttl < 1`: that lets NaN through.
  if type(ttl) ~= "number" or not (ttl >= 1 and ttl < 2 ^ 32) then
    return "the lifetime must be a number of seconds, 1 or more"
  end
  return check_key(key)
end


-- The shared dict.

local Dict = {}
Dict.__index = Dict


local function new_dict(zone)
  local dict = ngx.shared[zone]
  if not dict then
    return nil, format("no `lua_shared_dict %s`; put `lua_shared_dict %s 10m;` into the http block", zone, zone)
  end
  local capacity = dict:capacity()
  if capacity < MIN_DICT_SIZE then
    return nil, format("`lua_shared_dict %s` is too small: %d bytes; 64k is the least", zone, capacity)
  end
  return setmetatable({ zone = zone, dict = dict, flush_after = 0 }, Dict)
end


--- Makes room in a full dict from what has expired; live entries stay.
-- @treturn boolean whether there is room now
local function flush(self)
  local now = ngx_now()
  if now < self.flush_after then
    return false
  end
  local freed = self.dict:flush_expired(FLUSH_MAX)
  if freed == 0 then
    self.flush_after = now + FLUSH_PAUSE
  end
  return freed > 0
end


local function dict_failed(self, err)
  if err == "no memory" then
    err = format("`lua_shared_dict %s` is full: make it larger", self.zone)
  end
  return "failed", err
end


function Dict:add(key, value, ttl)
  local wrong = check_entry(key, value, ttl)
  if wrong then
    return "failed", wrong
  end
  local dict = self.dict
  -- The safe one never evicts a live entry: a replayed proof must not become unknown because others came.
  local ok, err = dict:safe_add(key, value, ttl)
  if not ok and err == "no memory" and flush(self) then
    ok, err = dict:safe_add(key, value, ttl)
  end
  if ok then
    return "stored"
  end
  if err == "exists" then
    return "exists"
  end
  return dict_failed(self, err)
end


function Dict:get(key)
  local wrong = check_key(key)
  if wrong then
    return "failed", wrong
  end
  local value, err = self.dict:get(key)
  if type(value) == "string" then
    return "found", value
  end
  if value == nil and type(err) ~= "string" then
    return "absent"
  end
  return "failed", type(err) == "string" and err or format("`lua_shared_dict %s` is used by others too", self.zone)
end


function Dict:put(key, value, ttl)
  local wrong = check_entry(key, value, ttl)
  if wrong then
    return "failed", wrong
  end
  local dict = self.dict
  local ok, err = dict:safe_set(key, value, ttl)
  if not ok and err == "no memory" and flush(self) then
    ok, err = dict:safe_set(key, value, ttl)
  end
  if ok then
    return "stored"
  end
  return dict_failed(self, err)
end


function Dict:delete(key)
  local wrong = check_key(key)
  if wrong then
    return "failed", wrong
  end
  local ok, err = self.dict:delete(key)
  if not ok and err then
    return dict_failed(self, err)
  end
  return "stored"
end


-- Redis.

local Redis = {}
Redis.__index = Redis

local REDIS_OPTIONS = {
  host = "string",
  port = "number",
  unix = "string",              -- path of a socket, instead of host and port
  username = "string",
  password = "string",
  database = "number",
  ssl = "boolean",
  ssl_verify = "boolean",       -- against lua_ssl_trusted_certificate
  server_name = "string",       -- of SNI and certificate; default: host
  connect_timeout = "number",   -- ms
  timeout = "number",           -- ms, of each sending and receiving
  pool_size = "number",         -- per worker
  keepalive = "number",         -- ms
  prefix = "string",            -- of all keys
}

-- Name to { least, most }.
local REDIS_NUMBERS = {
  port = { 1, 65535 },
  database = { 0, 65535 },
  connect_timeout = { 1, 60000 },
  timeout = { 1, 60000 },
  pool_size = { 1, 65535 },
  keepalive = { 1, 86400000 },
}


local function names_of(options)
  local names = {}
  for name in pairs(options) do
    names[#names + 1] = name
  end
  sort(names)
  return concat(names, ", ")
end


local function check_redis_types(spec)
  for name, value in pairs(spec) do
    local expected = REDIS_OPTIONS[name]
    if not expected then
      return "redis." .. tostring(name) .. ": unknown option; there are " .. names_of(REDIS_OPTIONS)
    end
    if type(value) ~= expected then
      return "redis." .. name .. ": must be a " .. expected
    end
    local range = REDIS_NUMBERS[name]
    if range and not (value >= range[1] and value <= range[2] and value == floor(value)) then
      return format("redis.%s: must be a whole number from %d to %d", name, range[1], range[2])
    end
    if value == "" and name ~= "prefix" then
      return "redis." .. name .. ": must not be empty"
    end
  end
end


local function is_address(host)
  return host:find(":", 1, true) ~= nil or host:find("^%d+%.%d+%.%d+%.%d+$") ~= nil
end


local function check_redis_address(spec)
  if spec.unix then
    if spec.host or spec.port then
      return "redis.unix: excludes host and port"
    end
  elseif not spec.host then
    return "redis.host: required, or unix"
  end
  if spec.username and not spec.password then
    return "redis.username: needs password"
  end
  if spec.ssl == false or spec.ssl == nil then
    for _, name in ipairs { "ssl_verify", "server_name" } do
      if spec[name] ~= nil then
        return "redis." .. name .. ": needs ssl = true"
      end
    end
  elseif spec.ssl_verify ~= false and not spec.server_name and (spec.unix or is_address(spec.host)) then
    return "redis.server_name: required, as the certificate is verified and there is no host name"
  end
end


--- A name of connections that may serve each other: what one of them proved or saw holds for all.
local function pool_name(redis, database, server_name)
  local address = redis.unix or redis.host .. ":" .. redis.port
  local parts = {
    address, redis.username or "", redis.password or "", redis.password and "auth" or "", tostring(database),
    tostring(redis.ssl), tostring(redis.ssl_verify), server_name or "",
  }
  for i = 1, #parts do
    parts[i] = #parts[i] .. ":" .. parts[i]
  end
  -- Hashed because of the password: the debug log shows names of pools.
  return "keybound:redis:" .. address .. ":" .. sha1_bin(concat(parts)):gsub(".", function(c)
    return format("%02x", c:byte())
  end)
end


--- Debian's package installs it under another name than everybody else.
local function load_client()
  for _, name in ipairs { "resty.redis", "nginx.redis" } do
    local ok, client = pcall(require, name)
    if ok then
      return client
    end
  end
  return nil, "lua-resty-redis is not installed (Debian: lua-nginx-redis)"
end


local function new_redis(spec)
  if type(spec) ~= "table" then
    return nil, "redis: must be a table"
  end
  local wrong = check_redis_types(spec) or check_redis_address(spec)
  if wrong then
    return nil, wrong
  end
  local client, err = load_client()
  if not client then
    return nil, "redis: " .. err
  end
  local self = {
    client = client,
    unix = spec.unix and (spec.unix:find("^unix:") and spec.unix or "unix:" .. spec.unix),
    -- localhost needs no resolver (RFC 6761 §6.3).
    host = spec.host and (spec.host:lower() == "localhost" and "127.0.0.1" or spec.host),
    port = spec.port or 6379,
    username = spec.username,
    password = spec.password,
    database = spec.database,
    ssl = spec.ssl == true,
    ssl_verify = spec.ssl_verify ~= false,
    server_name = spec.server_name,
    connect_timeout = spec.connect_timeout or 100,
    timeout = spec.timeout or 200,
    pool_size = spec.pool_size or 30,
    keepalive = spec.keepalive or 60000,
    prefix = spec.prefix or "keybound:",
    retry_at = 0,
  }
  if self.host and self.host:find(":", 1, true) and not self.host:find("^%[") then
    self.host = "[" .. self.host .. "]"
  end
  if self.ssl and not self.server_name and spec.host and not is_address(spec.host) then
    self.server_name = spec.host
  end
  self.name = "redis " .. (self.unix or self.host .. ":" .. self.port)
  self.pool = { pool = pool_name(self, self.database or 0, self.server_name) }
  return setmetatable(self, Redis)
end


--- What a connection needs before its first command.
-- @treturn nil|string message
local function prepare(self, red)
  if self.ssl then
    -- The library's own `ssl` option came after Debian's version: the handshake is made on its socket.
    -- Not `false` for the session: then a handshake that ends at once is `true` even where it was refused. With `nil`
    -- lua-resty-core throws in this case.
    local sock = red._sock
    local done, session, err = pcall(sock.sslhandshake, sock, nil, self.server_name, self.ssl_verify)
    if not done or not session then
      return "TLS: " .. tostring(done and err or session)
    end
  end
  local ok, err
  if self.username then
    ok, err = red:auth(self.username, self.password)
  elseif self.password then
    ok, err = red:auth(self.password)
  else
    ok = true
  end
  if not ok then
    return "AUTH: " .. tostring(err)
  end
  if self.database then
    ok, err = red:select(self.database)
    if not ok then
      return "SELECT: " .. tostring(err)
    end
  end
end


local function connect(self)
  local red, err = self.client:new()
  if not red then
    return nil, err
  end
  red._sock:settimeouts(self.connect_timeout, self.timeout, self.timeout)
  local ok
  if self.unix then
    ok, err = red:connect(self.unix, self.pool)
  else
    ok, err = red:connect(self.host, self.port, self.pool)
  end
  if not ok then
    return nil, "connect: " .. tostring(err)
  end
  if red:get_reused_times() == 0 then
    local wrong = prepare(self, red)
    if wrong then
      red:close()
      return nil, wrong
    end
  end
  return red
end


local function is_dead(err)
  for _, pattern in ipairs(DEAD) do
    if err:find(pattern) then
      return true
    end
  end
  return false
end


--- One command, and the connection goes back to its pool.
-- @return its reply; or nil, a message, and whether only a connection of the pool failed, which had died there
local function round_trip(self, command, ...)
  local red, err = connect(self)
  if not red then
    return nil, err
  end
  local is_reused = red:get_reused_times() > 0
  local done, reply
  -- Something else than Redis may answer: the library is not prepared for every byte.
  done, reply, err = pcall(red[command], red, ...)
  -- `false` is a reply that is an error: READONLY, NOAUTH, LOADING, ...
  if not done or not reply then
    red:close()
    err = tostring(done and err or reply)
    return nil, err, is_reused and is_dead(err)
  end
  red:set_keepalive(self.keepalive, self.pool_size)
  return reply
end


local function run(self, command, key, ...)
  local begun = ngx_now()
  if begun < self.retry_at then
    return nil, self.name .. ": not asked, it failed a moment ago: " .. self.failure
  end
  local reply, err, is_stale = round_trip(self, command, self.prefix .. key, ...)
  if reply ~= nil then
    self.failed_at = nil
    return reply
  end
  if not is_stale then
    -- The clock is that of the event loop, which has waited for the answer.
    local now = ngx_now()
    -- One answer may be late, and with it all that were under way.
    if not err:find("timeout$") or self.failed_at and begun >= self.failed_at then
      self.retry_at = now + REDIS_PAUSE
    end
    self.failure, self.failed_at = err, self.failed_at or now
  end
  return nil, self.name .. ": " .. err
end


local function milliseconds(ttl)
  return format("%.0f", floor(ttl * 1000))
end


local function unexpected(self)
  return "failed", self.name .. ": an unexpected reply"
end


function Redis:add(key, value, ttl)
  local err = check_entry(key, value, ttl)
  if err then
    return "failed", err
  end
  local reply
  reply, err = run(self, "set", key, value, "NX", "PX", milliseconds(ttl))
  if reply == "OK" then
    return "stored"
  end
  if reply == ngx_null then
    return "exists"
  end
  if reply == nil then
    return "failed", err
  end
  return unexpected(self)
end


function Redis:get(key)
  local err = check_key(key)
  if err then
    return "failed", err
  end
  local reply
  reply, err = run(self, "get", key)
  if reply == nil then
    return "failed", err
  end
  if reply == ngx_null then
    return "absent"
  end
  if type(reply) ~= "string" then
    return unexpected(self)
  end
  return "found", reply
end


function Redis:put(key, value, ttl)
  local err = check_entry(key, value, ttl)
  if err then
    return "failed", err
  end
  local reply
  reply, err = run(self, "set", key, value, "PX", milliseconds(ttl))
  if reply == "OK" then
    return "stored"
  end
  if reply == nil then
    return "failed", err
  end
  return unexpected(self)
end


function Redis:delete(key)
  local err = check_key(key)
  if err then
    return "failed", err
  end
  local reply
  reply, err = run(self, "del", key)
  if type(reply) == "number" then
    return "stored"
  end
  if reply == nil then
    return "failed", err
  end
  return unexpected(self)
end


--- Makes a store. Call it in init_by_lua: no connection is opened yet.
--
-- A store has, with keys and values that are byte strings, and lifetimes in seconds, 1 or more:
--
--     store:add(key, value, ttl)   "stored", "exists", or "failed" and a message
--     store:get(key)               "found" and the value, "absent", or "failed" and a message
--     store:put(key, value, ttl)   "stored", or "failed" and a message
--     store:delete(key)            "stored", whether it was there or not, or "failed" and a message
-- @tparam string|table spec name of a `lua_shared_dict` of 64k or more; or `{ redis = { host, port = 6379, unix,
--   username, password, database, ssl = false, ssl_verify = true, server_name, connect_timeout = 100, timeout = 200,
--   pool_size = 30, keepalive = 60000, prefix = "keybound:" } }`, times in ms
-- @treturn table|nil store
-- @treturn nil|string message that names the directive or the option
function _M.new(spec)
  local store, err
  if type(spec) == "string" then
    store, err = new_dict(spec)
  elseif type(spec) == "table" and spec.redis ~= nil then
    for name in pairs(spec) do
      if name ~= "redis" then
        return nil, "keybound.store: " .. tostring(name) .. ": unknown option; there is redis"
      end
    end
    store, err = new_redis(spec.redis)
  else
    err = "expect the name of a lua_shared_dict, or a table with redis"
  end
  if not store then
    return nil, "keybound.store: " .. err
  end
  return store
end


return _M
