--- What plugins take from kong.constants.

local strict = require "kong.strict"

return strict("kong.constants", {
  HEADERS = strict("kong.constants.HEADERS", {
    CONSUMER_ID = "X-Consumer-ID",
    CONSUMER_CUSTOM_ID = "X-Consumer-Custom-ID",
    CONSUMER_USERNAME = "X-Consumer-Username",
    CREDENTIAL_IDENTIFIER = "X-Credential-Identifier",
    ANONYMOUS = "X-Anonymous-Consumer",
    AUTHENTICATED_GROUPS = "X-Authenticated-Groups",
    CONSUMER_GROUPS = "X-Consumer-Groups",
  }),
})
