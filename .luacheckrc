std = "ngx_lua"
max_line_length = 120
-- What Kong gives to plugins; the host of the tests is what makes it.
files["lua/kong"] = {
  read_globals = { kong = { other_fields = true, fields = { ctx = { read_only = false, other_fields = true } } } },
  self = false,
}
files["t/lib/kong"] = { read_globals = { "kong" } }
files["t/lib/kong/runloop.lua"] = { globals = { "kong" } }
