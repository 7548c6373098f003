local typedefs = require "kong.db.schema.typedefs"

return {
  name = "key-auth-probe",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = { type = "record", fields = { { anonymous = { type = "string" } } } } },
  },
}
