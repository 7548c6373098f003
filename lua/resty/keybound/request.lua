--- Reads the facts of the current nginx request into the struct that libkeybound takes.

local library = require "resty.keybound.library"
local base = require "resty.core.base"
local ffi = require "ffi"
require "resty.core.var"

local C = library.constants
local lib = library.lib

local get_request = base.get_request
local clear_header = ngx.req.clear_header
local get_headers = ngx.req.get_headers
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local ngx_time = ngx.time
local ngx_var = ngx.var
local pairs = pairs
local pcall = pcall

local CERT_NONE = C.CERT_NONE
local CERT_PEM = C.CERT_PEM
local FACT_EARLY_DATA = C.FACT_EARLY_DATA

local facts = ffi.new("kb_facts")
facts.struct_size = ffi.sizeof("kb_facts")

-- `anchor`: the strings that `facts` points into, kept alive until the next request is read.
local _M = { facts = facts, anchor = {} }


-- Functions of lua-nginx-module, under names of our own: lua-resty-core and others declare them too, with other types
-- perhaps, and LuaJIT keeps whichever declaration came first.
if not pcall(function() return ffi.C.keybound_ngx_var_get end) then
  pcall(ffi.cdef, [[
    int keybound_ngx_var_get(void *r, const char *name, size_t name_len, char *lowcase_buf, int capture_id,
        const uint8_t **value, size_t *value_len, char **err) __asm__("ngx_http_lua_ffi_var_get");
    void *keybound_ngx_get_ssl(void *r, const char **err) __asm__("ngx_http_lua_ffi_get_req_ssl_pointer");
  ]])
end

local function symbol(name)
  local ok, f = pcall(function() return ffi.C[name] end)
  return ok and f or nil
end

-- Gives pointer and length of a variable without a Lua string; the same since 0.10.16. Tokens must not become Lua
-- strings where it can be helped: LuaJIT hashes long strings at a few places only, and many tokens of one issuer
-- collide there.
local var_get = symbol("keybound_ngx_var_get")
-- Since 0.10.23.
local get_ssl = symbol("keybound_ngx_get_ssl")

local value = ffi.new("const uint8_t *[1]")
local length = ffi.new("size_t[1]")
local errmsg = ffi.new("char *[1]")
local ssl_errmsg = ffi.new("const char *[1]")

local AUTHORIZATION = "http_authorization"
local AUTHORIZATION_LEN = #AUTHORIZATION
local ARGS = "args"
local ARGS_LEN = #ARGS
local lowcase = ffi.new("char[?]", 32)


-- nginx's variable of a header, by its name.
local variables = {}
-- Those of nginx's own, which know one spelling only.
local KNOWN = { http_user_agent = true, http_x_forwarded_for = true }

local function variable_of(name)
  local variable = variables[name]
  if not variable then
    variable = "http_" .. gsub(lower(name), "-", "_")
    variables[name] = variable
  end
  return variable
end


--- Removes headers from the request, with all that an application may take for them: to CGI, and to many who came after
-- it, `X_User` is `X-User`. nginx lets such names in where `underscores_in_headers` is on, as in Kong.
-- @tparam {string,...} names
function _M.clear_headers(names)
  for _, name in ipairs(names) do
    clear_header(name)
    local variable = variable_of(name)
    -- The variable has both spellings, too.
    if KNOWN[variable] or ngx_var[variable] then
      for other in pairs(get_headers(0, true)) do
        -- Not by variable_of(), which would remember whatever clients send.
        if #other == #name and "http_" .. gsub(lower(other), "-", "_") == variable then
          clear_header(other)
        end
      end
    end
  end
end


--- Sets a kb_str of `facts` from an nginx variable.
local function set_by_pointer(s, r, name, len)
  if var_get(r, name, len, lowcase, 0, value, length, errmsg) == 0 then
    s.ptr, s.len = value[0], length[0]
    return 1
  end
  s.ptr, s.len = nil, 0
  return 0
end


local function set_by_string(s, name)
  local v = ngx_var[name]
  _M.anchor[name] = v
  if v then
    s.ptr, s.len = ffi.cast("const uint8_t *", v), #v
    return 1
  end
  s.ptr, s.len = nil, 0
  return 0
end


local function set_common(r)
  facts.now_s = ngx_time()
  if var_get then
    facts.authorization_n = set_by_pointer(facts.authorization, r, AUTHORIZATION, AUTHORIZATION_LEN)
    set_by_pointer(facts.query, r, ARGS, ARGS_LEN)
  else
    facts.authorization_n = set_by_string(facts.authorization, AUTHORIZATION)
    set_by_string(facts.query, ARGS)
  end
end


--- The certificate through the connection's SSL object; NULL on plain HTTP, where there is none.
local function fill_from_ssl(r)
  set_common(r)
  facts.flags = 0
  facts.ssl = get_ssl(r, ssl_errmsg)
  -- Another engine may read its certificates the other way.
  facts.client_cert.ptr = nil
  facts.client_cert_form = CERT_NONE
end


--- The certificate as PEM from nginx's variable.
local function fill_from_variable(r)
  set_common(r)
  facts.ssl = nil
  facts.flags = ngx_var.ssl_early_data == "1" and FACT_EARLY_DATA or 0
  local pem = set_by_string(facts.client_cert, "ssl_client_raw_cert")
  facts.client_cert_form = pem == 1 and CERT_PEM or CERT_NONE
end


--- Whether the SSL object can be had, and the library can read it.
local function has_ssl()
  return get_ssl ~= nil and lib.kb_ssl_supported() == 1
end


--- Whether the connection of the current request asks its client for a certificate, or has asked.
-- @treturn boolean|nil nil where that cannot be told
function _M.asks_certificate()
  local r = get_ssl and get_request()
  local ssl = r and get_ssl(r, ssl_errmsg)
  if ssl == nil then
    return nil
  end
  local asks = lib.kb_ssl_asks_certificate(ssl)
  if asks < 0 then
    return nil
  end
  return asks == 1
end


--- Chooses how the facts are read.
-- @tparam[opt] string source "ssl", "variable", or nil for the best there is
-- @treturn function|nil fills `facts` from a request
-- @treturn nil|string message
function _M.filler(source)
  if source == "variable" or (source == nil and not has_ssl()) then
    return fill_from_variable
  end
  if source ~= nil and source ~= "ssl" then
    return nil, "certificate_source: must be ssl or variable"
  end
  if not has_ssl() then
    return nil, "certificate_source: this nginx does not give its SSL object; use variable"
  end
  return fill_from_ssl
end


return _M
