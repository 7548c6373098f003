--- TLS connections to an authorization server: with a client certificate, verified before the first byte is sent.
--
--     local profile = assert(connection.profile({ name = "as", certificate = "a.crt", private_key = "a.key" }))
--     local timeouts = { connect = 1000, send = 1000, read = 1000 }
--     local conn, kind, err = connection.open(profile, "as.example", 443, timeouts)
--     conn:send("GET / HTTP/1.1\r\n...")
--     conn:keepalive(60000, 30)
--
-- nginx itself mixes identities: its pools of connections are named by host and port, and who takes a connection out of
-- one is the client that opened it, verified as it was then. Here a pool is named by all that makes the difference.
--
-- nginx has one `lua_ssl_trusted_certificate` in a location, and its name check knows no IP addresses. So keybound
-- verifies by itself where a profile has a `ca`, and checks the name in any case. Without `ca`, all locations that use
-- a profile must have the same `lua_ssl_trusted_certificate`: they share connections.

local library = require "resty.keybound.library"
local ffi = require "ffi"
local ssl = require "ngx.ssl"
-- Kong loads its plugins for streams, too, where this does not load.
if ngx.config.subsystem == "http" then
  require "resty.core.socket"
end

local C = library.constants
local lib = library.lib

local concat = table.concat
local encode_base64 = ngx.encode_base64
local ffi_gc = ffi.gc
local find = string.find
local format = string.format
local io_open = io.open
local ngx = ngx
local ngx_log = ngx.log
local ngx_now = ngx.now
local kill = ngx.thread.kill
local NOTICE = ngx.NOTICE
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable
local sha1_bin = ngx.sha1_bin
local spawn = ngx.thread.spawn
local tcp = ngx.socket.tcp
local tostring = tostring
local type = type
local wait = ngx.thread.wait
local WARN = ngx.WARN

local ERRBUF_SIZE = 1024
-- Seconds.
local READ_PAUSE = 5
local WARN_PAUSE = 60

local trust_ptr_t = ffi.typeof("kb_trust *[1]")
local errbuf = ffi.new("uint8_t[?]", ERRBUF_SIZE)
local errlen = ffi.new("size_t[1]")

local OPTIONS = {
  name = "string",          -- in messages
  certificate = "string",   -- PEM or a path: the client certificate and its chain
  private_key = "string",   -- PEM or a path
  ca = "string",            -- PEM or a path; default: nginx's lua_ssl_trusted_certificate
  verify = "boolean",       -- the server's certificate; default true
}
local OPTION_NAMES = "name, certificate, private_key, ca and verify"

local _M = {}


local function free_trust(ptr) lib.kb_trust_free(ptr) end


local function message_of(rc)
  return library.message_of(rc, errbuf, ERRBUF_SIZE, errlen)
end


-- What a profile is made of: PEM texts, given or read from files.

-- The text where what is given is PEM itself, from its first line on: OpenSSL knows no indentation.
local function pem_of(given)
  return given:match("^%s*(%-%-%-%-%-BEGIN.*)")
end


local function read(given)
  local pem = pem_of(given)
  if pem then
    return pem
  end
  local file, err = io_open(given, "rb")
  if not file then
    -- What begins otherwise may be a key whose first line is missing.
    return nil, find(given, "^[./]") and err or "neither PEM nor a path that begins with / or . and can be read"
  end
  local text
  text, err = file:read("*a")
  file:close()
  if not text then
    return nil, given .. ": " .. err
  end
  return text
end


--- For messages: a path is told, PEM never is.
local function label(option, given)
  if pem_of(given) then
    return option
  end
  return option .. " (" .. given .. ")"
end


--- A client certificate with its key.
-- @treturn table|nil `{ cert, key, cert_pem, key_pem }`
-- @treturn nil|string message
local function load_pair(spec)
  local cert_pem, err = read(spec.certificate)
  if not cert_pem then
    return nil, "certificate: cannot be read: " .. err
  end
  local key_pem
  key_pem, err = read(spec.private_key)
  if not key_pem then
    return nil, "private_key: cannot be read: " .. err
  end
  return { cert_pem = cert_pem, key_pem = key_pem }
end


local function parse_pair(spec, pair)
  local err
  pair.cert, err = ssl.parse_pem_cert(pair.cert_pem)
  if not pair.cert then
    return nil, label("certificate", spec.certificate) .. ": is not a certificate in PEM: " .. err
  end
  -- OpenSSL would ask the terminal for the passphrase.
  if find(pair.key_pem, "ENCRYPTED", 1, true) then
    return nil, label("private_key", spec.private_key) .. ": is encrypted; decrypt it"
  end
  pair.key, err = ssl.parse_pem_priv_key(pair.key_pem)
  if not pair.key then
    return nil, label("private_key", spec.private_key) .. ": is not a private key in PEM: " .. err
  end
  local rc = lib.kb_tls_pair(pair.cert, pair.key)
  if rc == C.E_KEY then
    return nil, label("private_key", spec.private_key) .. ": is not the key of "
           .. label("certificate", spec.certificate)
  end
  if rc ~= C.OK then
    return nil, "private_key: " .. library.strerror(rc)
  end
  return pair
end


--- The certificates that are trusted.
-- @treturn table|nil `{ handle, pem }`
-- @treturn nil|string message
local function load_trust(spec)
  local pem, err = read(spec.ca)
  if not pem then
    return nil, "ca: cannot be read: " .. err
  end
  return { pem = pem }
end


local function parse_trust(spec, trust)
  local out = trust_ptr_t()
  local rc = lib.kb_trust_new(trust.pem, #trust.pem, out, errbuf, ERRBUF_SIZE, errlen)
  if rc ~= C.OK then
    return nil, label("ca", spec.ca) .. ": " .. message_of(rc)
  end
  trust.handle = ffi_gc(out[0], free_trust)
  return trust
end


-- Profiles.

--- Certificates of a profile as they are now. Never changed, but replaced: opening a connection waits, and must end
-- with the certificate under whose name it began.
-- @return `{ pair, trust, verify, id }`, `id` being what their connections have in the names of their pools
local function state_of(spec, pair, trust)
  local verify = spec.verify ~= false
  -- Both contents are the operator's own: nobody seeks collisions. The key belongs to the certificate.
  local id = concat({
    verify and "verified" or "unverified",
    pair and encode_base64(sha1_bin(pair.cert_pem)) or "-",
    trust and encode_base64(sha1_bin(trust.pem)) or "-",
    spec.name,
  }, "|")
  return { pair = pair, trust = trust, verify = verify, id = id }
end


local function warn(self, now, message)
  if now < self.warn_after then
    return
  end
  self.warn_after = now + WARN_PAUSE
  ngx_log(WARN, "keybound: ", self.spec.name, ": ", message, "; what was loaded before stays in use")
end


local function same_pair(a, b) return a.cert_pem == b.cert_pem and a.key_pem == b.key_pem end
local function same_trust(a, b) return a.pem == b.pem end


--- What is in the files now, or the former where that is not usable: half written, unreadable.
local function renewed(self, now, former, load, same, parse)
  if not former then
    return nil
  end
  local new, err = load(self.spec)
  if new then
    if same(new, former) then
      return former
    end
    new, err = parse(self.spec, new)
  end
  if new then
    ngx_log(NOTICE, "keybound: ", self.spec.name, ": changed files are in use")
    return new
  end
  warn(self, now, err)
  return former
end


--- Looks into the files again, if it is time.
local function refresh(self)
  local now = ngx_now()
  if now < self.read_after then
    return
  end
  self.read_after = now + READ_PAUSE
  local state = self.state
  local pair = renewed(self, now, state.pair, load_pair, same_pair, parse_pair)
  local trust = renewed(self, now, state.trust, load_trust, same_trust, parse_trust)
  if pair ~= state.pair or trust ~= state.trust then
    self.state = state_of(self.spec, pair, trust)
  end
end


local function check_spec(spec)
  if type(spec) ~= "table" then
    return "expect a table at #1"
  end
  for name, value in pairs(spec) do
    if not OPTIONS[name] then
      return tostring(name) .. ": unknown option; there are " .. OPTION_NAMES
    end
    if type(value) ~= OPTIONS[name] then
      return name .. ": must be a " .. OPTIONS[name]
    end
    if value == "" then
      return name .. ": must not be empty"
    end
  end
  if not spec.name then
    return "name: required"
  end
  if spec.certificate and not spec.private_key then
    return "private_key: required with certificate"
  end
  if spec.private_key and not spec.certificate then
    return "certificate: required with private_key"
  end
end


--- Loads what connections of one kind need. Call it in init_by_lua: whatever cannot be used is refused here.
--
-- Files are looked at again every 5 seconds when a connection is wanted, and what changed holds for new connections.
-- The worker's user must be able to read them; where it is not, or they are not usable, the former content stays.
-- @tparam table spec `name` for messages; `certificate` and `private_key`, or neither; `ca`, default nginx's
--   `lua_ssl_trusted_certificate`; `verify`, default true. Each of the three is PEM, or else the path of a file.
-- @treturn table|nil profile
-- @treturn nil|string message that names the option
function _M.profile(spec)
  local wrong = check_spec(spec)
  if wrong then
    return nil, "keybound.connection: " .. wrong
  end
  local own = {}
  for name, value in pairs(spec) do
    own[name] = value
  end
  local pair, trust, err
  if own.certificate then
    pair, err = load_pair(own)
    if pair then
      pair, err = parse_pair(own, pair)
    end
  end
  if own.ca and not err then
    trust, err = load_trust(own)
    if trust then
      trust, err = parse_trust(own, trust)
    end
  end
  if err then
    return nil, "keybound.connection: " .. own.name .. ": " .. err
  end
  if own.verify == false then
    ngx_log(WARN, "keybound: ", own.name, ": the server's certificate is not verified: anybody can answer for it")
  end
  return { spec = own, state = state_of(own, pair, trust), read_after = ngx_now() + READ_PAUSE, warn_after = 0 }
end


-- Connections.

local Connection = {}
Connection.__index = Connection


function Connection:send(bytes)
  return self.sock:send(bytes)
end


--- Sends a request, and takes the first bytes of its answer. What a connection from the pool has to read before it was
-- asked anything is no answer: nginx looks for it in the socket, but OpenSSL may have taken it from there.
-- @tparam string bytes
-- @tparam number max the most bytes to take
-- @treturn string|nil as `receive`
-- @treturn nil|string "closed", "timeout", ...
function Connection:ask(bytes, max)
  local sock = self.sock
  if not self.reused then
    local sent, err = sock:send(bytes)
    if not sent then
      return nil, err
    end
    return sock:receiveany(max)
  end
  -- It runs until it waits for the answer.
  local came, data, err = false, nil, nil
  local reader = spawn(function()
    data, err = sock:receiveany(max)
    came = true
  end)
  if came then
    wait(reader)
    return nil, data and "there was something to read before the request" or err
  end
  local sent, send_err = sock:send(bytes)
  if not sent then
    kill(reader)
    return nil, send_err
  end
  wait(reader)
  return data, err
end


--- @tparam number max the most bytes to take
-- @treturn string|nil what is there, as soon as anything is
-- @treturn nil|string "closed", "timeout", ...
function Connection:receive(max)
  return self.sock:receiveany(max)
end


function Connection:settimeouts(connect, send, read_timeout)
  return self.sock:settimeouts(connect, send, read_timeout)
end


--- Puts the connection into its pool: only after a whole answer, with nothing left to read.
function Connection:keepalive(idle_ms, pool_size)
  return self.sock:setkeepalive(idle_ms, pool_size)
end


function Connection:close()
  return self.sock:close()
end


--- Where to connect, the name in SNI, and the name that the certificate must have.
-- @return address, server name or nil, host
local function names_of(host)
  host = host:lower()
  local v6 = host:match("^%[(.+)%]$") or (find(host, ":", 1, true) and host)
  if v6 then
    return "[" .. v6 .. "]", nil, v6
  end
  if find(host, "^%d+%.%d+%.%d+%.%d+$") then
    return host, nil, host
  end
  -- RFC 6761 §6.3; without a resolver nginx knows no names.
  return host == "localhost" and "127.0.0.1" or host, host, host
end


local function connect_failure(err)
  if err == "timeout" then
    return "timeout"
  end
  -- nginx's words, and those of Kong's own resolver.
  if find(err, "resolve", 1, true) or find(err, "DNS resolution", 1, true) then
    return "resolve"
  end
  return "connect"
end


local function handshake_failure(err)
  if err == "timeout" then
    return "timeout"
  end
  -- The number that lua-resty-core puts before a message is sometimes that of an earlier one.
  local text = err:gsub("^%d+: ", "")
  if text == "certificate host mismatch" or (text ~= err and not find(text, "handshake failed", 1, true)) then
    return "certificate"
  end
  return "tls"
end


--- Verifies the server of a fresh connection.
-- @return true; or nil, kind, message
local function verify(state, session, host)
  local name = state.verify and host or nil
  local trust = state.verify and state.trust and state.trust.handle or nil
  local rc = lib.kb_tls_verify(trust, session, name, name and #name or 0, errbuf, ERRBUF_SIZE, errlen)
  if rc == C.OK then
    return true
  end
  return nil, rc == C.E_TLS and "certificate" or "tls", message_of(rc)
end


local function handshake(sock, state, server_name, host)
  local pair = state.pair
  local ok, err = sock:setclientcert(pair and pair.cert, pair and pair.key)
  if not ok then
    return nil, "tls", err
  end
  -- Where there is a CA of our own, nginx must not decide by another. Never a former session: it has an identity too.
  local by_nginx = state.verify and not state.trust
  local done, session
  done, session, err = pcall(sock.sslhandshake, sock, nil, server_name, by_nginx)
  if not done then
    -- lua-resty-core asserts that a handshake which ends at once, without waiting, was not refused.
    return nil, by_nginx and "certificate" or "tls",
           "refused" .. (by_nginx and "; is there a lua_ssl_trusted_certificate, or an ssl_trusted_certificate?" or "")
  end
  if not session then
    err = err and tostring(err) or "no session"
    return nil, handshake_failure(err), err
  end
  return verify(state, session, host)
end


--- Opens a connection, or takes one out of the pool that is the same in all that matters.
-- @tparam table profile from `profile`
-- @tparam string host a name, or an IP address
-- @tparam number port
-- @tparam table timeouts `connect` (of the handshake too), `send`, `read`; ms
-- @tparam boolean fresh never one out of the pool; do not keep it afterwards
-- @treturn table|nil connection with `ask`, `send`, `receive`, `settimeouts`, `keepalive`, `close`; its `reused` tells
--   whether it came from the pool
-- @treturn nil|string "resolve", "connect", "tls", "certificate" (the server is not to be trusted) or "timeout"
-- @treturn nil|string message
function _M.open(profile, host, port, timeouts, fresh)
  if type(host) ~= "string" or not find(host, "^[%w%.%-_:%[%]]+$") then
    return nil, "resolve", "not a host name"
  end
  refresh(profile)
  local state = profile.state
  local address, server_name
  address, server_name, host = names_of(host)
  local sock, err = tcp()
  if not sock then
    return nil, "connect", err
  end
  sock:settimeouts(timeouts.connect, timeouts.send, timeouts.read)
  -- A pool into which nothing is ever put is one out of which nothing comes.
  local pool = fresh and "keybound:none" or format("keybound:%s|%d|%s|%s", host, port, server_name or "-", state.id)
  local ok
  ok, err = sock:connect(address, port, { pool = pool })
  if not ok then
    err = tostring(err)
    return nil, connect_failure(err), err
  end
  local reused = sock:getreusedtimes() > 0
  if not reused then
    local kind
    ok, kind, err = handshake(sock, state, server_name, host)
    if not ok then
      sock:close()
      return nil, kind, err
    end
  end
  return setmetatable({ sock = sock, reused = reused }, Connection)
end


return _M
