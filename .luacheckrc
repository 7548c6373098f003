std = "ngx_lua"
max_line_length = 130
-- Holds strings that C reads; nothing else reads it.
files["lua/resty/keybound/request.lua"].ignore = { "241/anchor" }
