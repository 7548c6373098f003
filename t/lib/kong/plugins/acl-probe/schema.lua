local typedefs = require "kong.db.schema.typedefs"

return {
  name = "acl-probe",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = { type = "record", fields = {
        { allow = { type = "array", required = true, elements = { type = "string" } } },
      } } },
  },
}
