--- Reads the facts of the current nginx request into the struct that libkeybound takes.

local library = require "resty.keybound.library"
local base = require "resty.core.base"
local bit = require "bit"
local ffi = require "ffi"
require "resty.core.var"

local C = library.constants
local lib = library.lib

local band = bit.band
local bor = bit.bor
local cast = ffi.cast
local ffi_fill = ffi.fill
local ffi_new = ffi.new
local get_request = base.get_request
local clear_header = ngx.req.clear_header
local concat = table.concat
local format = string.format
local get_body_data = ngx.req.get_body_data
local get_body_file = ngx.req.get_body_file
local get_headers = ngx.req.get_headers
local gsub = string.gsub
local io_open = io.open
local ipairs = ipairs
local lower = string.lower
local match = string.match
local ngx_time = ngx.time
local ngx_var = ngx.var
local pairs = pairs
local pcall = pcall
local read_body = ngx.req.read_body
local set_header = ngx.req.set_header
local tonumber = tonumber
local type = type

local CERT_NONE = C.CERT_NONE
local CERT_PEM = C.CERT_PEM
local FACT_EARLY_DATA = C.FACT_EARLY_DATA

local facts = ffi_new("kb_facts")
facts.struct_size = ffi.sizeof("kb_facts")
local HTTP_SIZE = ffi.sizeof("kb_http")

-- `anchor`: what `facts` and its `http` point into, kept alive until the next request is read.
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
if not pcall(function() return ffi.C.keybound_ngx_get_headers end) then
  pcall(ffi.cdef, [[
    typedef struct { struct { int len; const uint8_t *data; } key, value; } keybound_ngx_header;
    int keybound_ngx_count_headers(void *r, int max, int *truncated) __asm__("ngx_http_lua_ffi_req_get_headers_count");
    int keybound_ngx_get_headers(void *r, keybound_ngx_header *out, int count, int raw)
        __asm__("ngx_http_lua_ffi_req_get_headers");
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

local value = ffi_new("const uint8_t *[1]")
local length = ffi_new("size_t[1]")
local errmsg = ffi_new("char *[1]")
local ssl_errmsg = ffi_new("const char *[1]")
local truncated = ffi_new("int[1]")

-- The headers of a request, as lua-nginx-module gives them and as the library takes them.
local given_t = ffi.typeof("keybound_ngx_header[?]")
local headers_t = ffi.typeof("kb_header[?]")
-- Seldom there are more.
local ROOM = 128
local given_room, headers_room = given_t(ROOM), headers_t(ROOM)

local AUTHORIZATION = "http_authorization"
local AUTHORIZATION_LEN = #AUTHORIZATION
local ARGS = "args"
local ARGS_LEN = #ARGS
local PROOF = "http_dpop"
local PROOF_LEN = #PROOF
local SPACE, SLASH, LETTER_D = 0x20, 0x2f, 0x64
local lowcase = ffi_new("char[?]", 32)

-- Longer forms hold no credentials.
local MAX_FORM = 16384
local FORM = "application/x-www-form-urlencoded"
-- Since then nginx joins headers of one name into its variable, by a comma and a space; before, it shows the first.
local SHOWS_ALL = ngx.config.nginx_version >= 1023000

-- Members of kb_http for a login, and nginx's variable of each.
local FOR_LOGINS = {
  method = "request_method",
  host = "http_host",
  target = "request_uri",
  cookie = "http_cookie",
  accept = "http_accept",
  origin = "http_origin",
  fetch_site = "http_sec_fetch_site",
  fetch_mode = "http_sec_fetch_mode",
  fetch_dest = "http_sec_fetch_dest",
  refresh_token = "http_refresh_token",
}
-- And for a proof, besides all headers.
local FOR_PROOFS = { method = "request", host = "http_host", target = "request_uri", scheme = "scheme" }


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


-- What is kept of requests that were let through, for as long as they last. `ngx.ctx` has the handle, and lives on
-- where nginx forgets it in an internal redirect: then it is found by the request's name. Scripts that show `ngx.ctx`
-- show nothing of it.
local kept = setmetatable({}, { __mode = "k" })
local handles = setmetatable({}, { __mode = "v" })
-- By which it may be decided about. What else is changed is cleared first in any case.
local CREDENTIALS = { "authorization", "cookie", "dpop", "refresh-token" }


--- Names the current request, through internal redirects, and no other: where its memory is another's by now, the
-- connection has counted on. ($request_id is a new one each time that it is asked for.)
local function name_of_request()
  return format("%s %s %d", ngx_var.connection, ngx_var.connection_requests, tonumber(cast("uintptr_t", get_request())))
end


-- What no other worker has, on whatever node; false: there is none.
local worker

local function name_of_worker()
  if worker == nil then
    local file = io_open("/dev/urandom", "rb")
    worker = file and file:read(16) or false
    if file then
      file:close()
    end
  end
  return worker
end


local function has_proof()
  if var_get then
    return var_get(get_request(), PROOF, PROOF_LEN, lowcase, 0, value, length, errmsg) == 0
  end
  return ngx_var[PROOF] ~= nil
end


--- Whether the current request has a `DPoP` header that nobody looks at, beside a token that came with another scheme.
function _M.has_stray_proof()
  return has_proof() and match(ngx_var[AUTHORIZATION] or "", "^[dD][pP][oO][pP]") == nil
end


local function kept_of(name)
  local handle = handles[name]
  return handle and kept[handle]
end


--- Remembers of the current request, which is let through, the proof that it used, and the credentials that are about
-- to be changed. nginx may redirect it internally (try_files, index, error_page), and then it is decided about anew,
-- by what its client sent.
-- @tparam table changes by name
-- @tparam[opt] string spent of `kb_check_spent()`
function _M.keep(changes, spent)
  local headers
  for _, name in ipairs(CREDENTIALS) do
    if changes[name] ~= nil then
      headers = headers or {}
      headers[name] = ngx_var[variable_of(name)] or false
    end
  end
  if not headers and not spent then
    return
  end
  local name = name_of_request()
  local before, handle = kept_of(name), {}
  handles[name], ngx.ctx.keybound_request = handle, handle
  kept[handle] = { headers = headers or {}, spent = spent or before and before.spent }
end


--- Gives the current request back what it came with.
function _M.restore_headers()
  local record = kept_of(name_of_request())
  for name, text in pairs(record and record.headers or {}) do
    if text then
      set_header(name, text)
    else
      clear_header(name)
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


--- Sets a kb_str from a string, which is kept under a name.
local function set_string(s, name, v)
  _M.anchor[name] = v
  if v then
    s.ptr, s.len = cast("const uint8_t *", v), #v
    return 1
  end
  s.ptr, s.len = nil, 0
  return 0
end


local function set_by_string(s, name)
  return set_string(s, name, ngx_var[name])
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


local function set(str, r, name)
  if var_get then
    return set_by_pointer(str, r, name, #name)
  end
  return set_by_string(str, name)
end


--- Members of a kb_http, each with nginx's variable of it.
local function members(http, variables_of)
  local all = {}
  for member, name in pairs(variables_of) do
    all[#all + 1] = { str = http[member], name = name }
  end
  return all
end


--- Several tokens are none: they are joined to something that cannot be one.
local function join_refresh_tokens(http)
  local values = get_headers(0)["refresh-token"]
  if type(values) == "table" then
    set_string(http.refresh_token, "refresh_token", concat(values, ", "))
  end
end


--- What logins and sessions are decided from.
local function fill_for_login(http, all, r)
  for i = 1, #all do
    set(all[i].str, r, all[i].name)
  end
  if http.refresh_token.ptr ~= nil and not SHOWS_ALL then
    join_refresh_tokens(http)
  end
end


--- All headers, since of several `DPoP` nginx before 1.23 shows the first only, and of several `X-Forwarded-Host`, too.
local function set_headers(http, r)
  local n = ffi.C.keybound_ngx_count_headers(r, 0, truncated)
  local given, headers = given_room, headers_room
  if n > ROOM then
    given, headers = given_t(n), headers_t(n)
  end
  if n <= 0 or ffi.C.keybound_ngx_get_headers(r, given, n, 1) ~= 0 then
    return
  end
  for i = 0, n - 1 do
    local one, header = given[i], headers[i]
    header.name.ptr, header.name.len = one.key.data, one.key.len
    header.value.ptr, header.value.len = one.value.data, one.value.len
  end
  _M.anchor.headers = headers
  http.headers, http.headers_n = headers, n
end


--- What a proof is decided from.
local function fill_for_proof(http, all, r)
  for i = 1, #all do
    set(all[i].str, r, all[i].name)
  end
  -- The method is that of the request line: error_page makes another one of $request_method.
  local method, len = http.method, tonumber(http.method.len)
  local n = 0
  while n < len and method.ptr[n] ~= SPACE do
    n = n + 1
  end
  method.len = n
  if n + 1 >= len or method.ptr[n + 1] ~= SLASH then
    -- With a whole URL there, nginx goes by its host, whatever `Host` says.
    http.host.ptr, http.host.len = nil, 0
  end
  if set(http.peer, r, "realip_remote_addr") == 0 then
    set(http.peer, r, "remote_addr")
  end
  local own, name = name_of_worker(), name_of_request()
  set_string(http.request, "request", own and own .. name)
  local before = kept_of(name)
  set_string(http.spent, "spent", before and before.spent)
  set_headers(http, r)
end


--- Whether the `Authorization` of the request in `facts` can be that of a proof.
local function is_dpop()
  local authorization = facts.authorization
  -- The engine reads the rest of the name.
  return authorization.len > 0 and bor(authorization.ptr[0], 0x20) == LETTER_D
end


--- The body of a request that sends a form; the upstream gets it all the same. It yields.
-- @treturn string|nil nil where there is none, and where it is too long
local function read_form()
  local size = ngx_var.request_method == "POST" and tonumber(ngx_var.content_length)
  if not size or size > MAX_FORM or match(lower(ngx_var.content_type or ""), "^[^;%s]*") ~= FORM then
    return nil
  end
  read_body()
  local body, name = get_body_data(), get_body_file()
  local file = not body and name and io_open(name, "rb")
  if file then
    body = file:read(MAX_FORM)
    file:close()
  end
  return body
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


--- Adds what an engine needs besides.
-- @tparam function fill from `filler`
-- @tparam number needs of `kb_engine_needs()`
-- @treturn function fills `facts` from a request; it yields where there may be a form
function _M.with_needs(fill, needs)
  if band(needs, C.NEEDS_HTTP) == 0 then
    return fill
  end
  local http = ffi_new("kb_http")
  http.struct_size = HTTP_SIZE
  local for_logins, for_proofs = members(http, FOR_LOGINS), members(http, FOR_PROOFS)
  local has_logins, takes_proofs = band(needs, C.NEEDS_LOGIN) ~= 0, band(needs, C.NEEDS_PROOF) ~= 0
  local takes_forms = band(needs, C.NEEDS_FORM) ~= 0
  -- Whether it holds what another request came with.
  local is_used = false
  return function(r)
    local form = takes_forms and read_form() or nil
    fill(r)
    facts.http = http
    if is_used then
      ffi_fill(http, HTTP_SIZE)
      http.struct_size = HTTP_SIZE
      is_used = false
    end
    if takes_proofs and is_dpop() then
      is_used = true
      fill_for_proof(http, for_proofs, r)
    elseif has_logins then
      fill_for_login(http, for_logins, r)
    end
    if takes_forms then
      set_string(http.form, "form", form)
    end
  end
end


return _M
