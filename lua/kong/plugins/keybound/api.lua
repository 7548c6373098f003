--- The Admin API has what the Status API has.

return require "kong.plugins.keybound.status_api"
