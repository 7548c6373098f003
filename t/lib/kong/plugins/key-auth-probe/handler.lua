--- An authentication plugin beside the one that is tested: by the header `apikey`, which is the username of a consumer.

local constants = require "kong.constants"

local HEADERS = constants.HEADERS

local _M = { PRIORITY = 1250, VERSION = "1.0.0" }


local function set(name, value)
  if value then
    kong.service.request.set_header(name, value)
  else
    kong.service.request.clear_header(name)
  end
end


function _M.access(_, conf)
  -- In a chain of authentication plugins the first that succeeds is enough.
  if conf.anonymous and kong.client.get_credential() then
    return
  end
  local key = kong.request.get_header("apikey")
  local consumer = key and kong.db.consumers:select_by_username(key)
  if consumer then
    local credential = { id = consumer.id, key = key, consumer = { id = consumer.id } }
    set(HEADERS.CONSUMER_ID, consumer.id)
    set(HEADERS.CONSUMER_CUSTOM_ID, consumer.custom_id)
    set(HEADERS.CONSUMER_USERNAME, consumer.username)
    set(HEADERS.CREDENTIAL_IDENTIFIER, credential.id)
    set(HEADERS.ANONYMOUS, nil)
    kong.client.authenticate(consumer, credential)
  elseif conf.anonymous then
    consumer = kong.db.consumers:select_by_username(conf.anonymous)
    set(HEADERS.CONSUMER_ID, consumer.id)
    set(HEADERS.CONSUMER_USERNAME, consumer.username)
    set(HEADERS.CREDENTIAL_IDENTIFIER, nil)
    set(HEADERS.ANONYMOUS, true)
    kong.client.authenticate(consumer, nil)
  else
    return kong.response.exit(401, { message = key and "Unauthorized" or "No API key found in request" },
                              { ["WWW-Authenticate"] = "Key" })
  end
end


return _M
