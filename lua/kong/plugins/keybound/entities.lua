--- The entities of Kong that a configuration or a token names.

local claims = require "kong.plugins.keybound.claims"

local ipairs = ipairs
local kong = kong

-- How long is remembered what Kong itself does not forget when it changes, in seconds.
local NAMED = { ttl = 60, neg_ttl = 10 }

local _M = {}


local function load_certificate(id)
  local entity, err = kong.db.certificates:select({ id = id })
  if not entity then
    return nil, err
  end
  return { certificate = entity.cert, private_key = entity.key }
end


--- A Certificate, by id.
-- @treturn table|nil `{ certificate, private_key }`, PEM
-- @treturn nil|string message
function _M.certificate(id)
  local certificate, err = kong.cache:get("keybound:certificate:" .. id, NAMED, load_certificate, id)
  if not certificate then
    return nil, err or "there is no Certificate " .. id
  end
  return certificate
end


local function load_consumer_id(by, value)
  local consumers = kong.db.consumers
  local consumer, err
  if by == "username" then
    consumer, err = consumers:select_by_username(value)
  else
    consumer, err = consumers:select_by_custom_id(value)
  end
  return consumer and consumer.id, err
end


--- By id. Kong's own plugins share this entry, where it may be a username, too; Kong forgets it when the Consumer
-- changes.
local function consumer_of(id)
  return kong.cache:get(kong.db.consumers:cache_key(id), nil, kong.client.load_consumer, id, true)
end


--- By a name that may be another's since it was looked up, or nobody's.
local function consumer_named(by, name)
  local key = "keybound:consumer:" .. by .. ":" .. name
  for _ = 1, 2 do
    local id, err = kong.cache:get(key, NAMED, load_consumer_id, by, name)
    if not id then
      return nil, err
    end
    local consumer
    consumer, err = consumer_of(id)
    if err or (consumer and consumer[by] == name) then
      return consumer, err
    end
    -- One of them is old; in this worker only, for the others see it by themselves.
    kong.cache:invalidate_local(key)
    kong.cache:invalidate_local(kong.db.consumers:cache_key(id))
  end
end


--- A Consumer, by id or username.
-- @treturn table|nil
-- @treturn nil|string message, where Kong could not look
function _M.consumer(name)
  if claims.is_uuid(name) then
    return consumer_of(name)
  end
  return consumer_named("username", name)
end


--- The Consumer that a claim names.
-- @tparam {string,...} ways "id", "username" or "custom_id": how it may be named
-- @treturn table|nil
-- @treturn nil|string message, where Kong could not look
function _M.named_consumer(name, ways)
  for _, by in ipairs(ways) do
    local consumer, err
    if by ~= "id" then
      consumer, err = consumer_named(by, name)
    elseif claims.is_uuid(name) then
      consumer, err = consumer_of(name)
    end
    if err then
      return nil, err
    end
    -- A username may look like an id.
    if consumer and consumer[by] == name then
      return consumer
    end
  end
end


return _M
