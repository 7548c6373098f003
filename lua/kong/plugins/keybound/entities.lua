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


--- A Consumer, by id, or, with `by_username`, by either. This entry Kong forgets when the Consumer changes.
-- @treturn table|nil
-- @treturn nil|string message, where Kong could not look
function _M.consumer(id, by_username)
  return kong.cache:get(kong.db.consumers:cache_key(id), nil, kong.client.load_consumer, id, by_username)
end


--- The Consumer that a claim names.
-- @tparam {string,...} ways "id", "username" or "custom_id": how it may be named
-- @treturn table|nil
-- @treturn nil|string message, where Kong could not look
function _M.named_consumer(name, ways)
  for _, by in ipairs(ways) do
    local id, err
    if by == "id" then
      id = claims.is_uuid(name) and name
    else
      id, err = kong.cache:get("keybound:consumer:" .. by .. ":" .. name, NAMED, load_consumer_id, by, name)
    end
    local consumer
    if id then
      consumer, err = _M.consumer(id)
    end
    if consumer or err then
      return consumer, err
    end
  end
end


return _M
