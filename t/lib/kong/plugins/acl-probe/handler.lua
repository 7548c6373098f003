--- What the bundled acl plugin decides by, as far as an authentication plugin can see it.

local runloop = require "kong.runloop"

local ipairs = ipairs

local _M = { PRIORITY = 950, VERSION = "1.0.0" }


local function allows(allow, groups)
  for _, wanted in ipairs(allow) do
    for _, group in ipairs(groups) do
      if wanted == group then
        return true
      end
    end
  end
  return false
end


function _M.access(_, conf)
  local consumer, credential = kong.client.get_consumer(), kong.client.get_credential()
  local authenticated = kong.ctx.shared.authenticated_groups
  local groups
  if not consumer then
    if not authenticated then
      if credential then
        return kong.response.exit(403, { message = "You cannot consume this service" })
      end
      return kong.response.exit(401, { message = "Unauthorized" })
    end
    groups = authenticated
  elseif not credential and authenticated then
    -- Those of whoever was authenticated come before those of an anonymous consumer.
    groups = authenticated
  else
    groups = runloop.groups_of(consumer.id)
  end
  if not allows(conf.allow, groups) then
    return kong.response.exit(403, { message = "You cannot consume this service" })
  end
end


return _M
