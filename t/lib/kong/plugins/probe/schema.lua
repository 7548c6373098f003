local typedefs = require "kong.db.schema.typedefs"

local fields = {
  { text = { type = "string", referenceable = true, len_max = 20 } },
  { number = { type = "number", default = 1, between = { 1, 2 } } },
  { integer = { type = "integer", gt = 0 } },
  { flag = { type = "boolean", default = true } },
  { choice = { type = "string", one_of = { "a", "b" } } },
  { list = { type = "array", elements = { type = "string", referenceable = true, match = "^%l" } } },
  { set = { type = "set", elements = { type = "string" } } },
  { map = { type = "map", keys = { type = "string" }, values = { type = "integer" } } },
  { any = { type = "string", len_min = 0 } },
  { host = typedefs.host }, { port = typedefs.port }, { url = typedefs.url }, { header = typedefs.header_name },
  { id = typedefs.uuid { auto = false } },
  { first = { type = "string" } }, { second = { type = "string" } },
  { even = { type = "integer", custom_validator = function(n)
      if n % 2 == 0 then
        return true
      end
      return nil, "must be even"
    end } },
  { inner = { type = "record", fields = {
      { name = { type = "string", default = "nobody" } }, { secret = { type = "string", referenceable = true } },
    } } },
  { optional = { type = "record", required = false, fields = { { name = { type = "string", required = true } } } } },
}
for _, phase in ipairs({ "certificate", "rewrite", "access", "header_filter", "body_filter", "log" }) do
  fields[#fields + 1] = { [phase] = { type = "string" } }
end

return {
  name = "probe",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = fields,
        entity_checks = {
          { mutually_required = { "first", "second" } },
          { conditional = { if_field = "choice", if_match = { eq = "b" },
                            then_field = "integer", then_match = { required = true } } },
          { custom_entity_check = { field_sources = { "text", "any" }, fn = function(conf)
              local bad = conf.text == "bad" or kong.vault.is_reference(conf.text)
              return not bad, "text is bad"
            end } },
        },
        custom_validator = function(conf)
          if conf.any == "wrong" then
            return nil, { list = { [2] = "is wrong" }, any = "wrong since number is " .. conf.number .. " and host " ..
              (conf.host == ngx.null and "null" or "there") }
          end
          return true
        end,
    } },
  },
}
