-- The tests of `require "keybound"`, for LuaJIT and Lua 5.4. run.sh builds the library and runs them.

local here = arg[0]:match("^(.*/)") or "./"
local keybound = require "keybound"
local fixtures = dofile(here .. "fixtures.lua")

local lua54 = math.type ~= nil
local jit_ffi = not lua54 and require "ffi"

-- The harness --------------------------------------------------------------------------------------------------------

local passed, failed = 0, 0

local function rule(name, test)
  local ok, message = xpcall(test, debug.traceback)
  if ok then
    passed = passed + 1
    print("ok      " .. name)
  else
    failed = failed + 1
    print("FAILED  " .. name .. "\n" .. tostring(message))
  end
end

local function same(got, expected, what)
  if got ~= expected then
    error(("%s: got %s, expected %s"):format(what or "value", tostring(got), tostring(expected)), 2)
  end
end

-- The call gives nil and one message that holds `text`, and nothing else; it does not throw.
local function refused(text, call, ...)
  local results = { pcall(call, ...) }
  local count = select("#", pcall(call, ...))
  if not results[1] then error("threw " .. tostring(results[2]), 2) end
  if results[2] ~= nil or type(results[3]) ~= "string" or count ~= 3 then
    error(("got %s, %s"):format(tostring(results[2]), tostring(results[3])), 2)
  end
  if not results[3]:find(text, 1, true) then error(("%q does not hold %q"):format(results[3], text), 2) end
end

local function with(base, changes)
  local copy = {}
  for name, value in pairs(base) do copy[name] = value end
  for name, value in pairs(changes) do
    if value == keybound.null then copy[name] = nil else copy[name] = value end
  end
  return copy
end
local absent = keybound.null

-- Equal by content. Strict about types, and integers are not floats.
local function deep(got, expected, path)
  path = path or "table"
  if type(got) ~= "table" or type(expected) ~= "table" then
    same(got, expected, path)
    if lua54 then same(math.type(got), math.type(expected), path .. ": type") end
    return
  end
  for key, value in pairs(expected) do deep(got[key], value, path .. "." .. tostring(key)) end
  for key in pairs(got) do
    if expected[key] == nil then error(path .. ": unexpected " .. tostring(key), 2) end
  end
end

local function config(changes)
  local key = {}
  for name, value in fixtures.jwk:gmatch('"(%w+)":"([^"]*)"') do key[name] = value end
  return with({
    issuer = "https://as.example",
    audience_required = { "https://api.example" },
    jwks = { keys = { key } },
  }, changes or {})
end

local now = fixtures.issued + 10
local client_der = fixtures.client_der_hex:gsub("..", function(hex) return string.char(tonumber(hex, 16)) end)
local request = { token = fixtures.bound, cert = fixtures.client_pem, now = now }
local facts = { authorization = "Bearer " .. fixtures.bound, cert = fixtures.client_pem, now = now }

-- Every value that is no string and no table.
local others = { true, false, 12, 1.5, print, coroutine.create(print), io.stdout, keybound.null, keybound.verifier(config()) }
if jit_ffi then
  others[#others + 1] = jit_ffi.new("int[1]")
  others[#others + 1] = jit_ffi.new("int64_t", 1)
end

-- Primitives ---------------------------------------------------------------------------------------------------------

local rfc8705_pem = [[
-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
-----END CERTIFICATE-----
]]

rule("rfc8705_3_1_c the certificate of appendix A has its thumbprint", function()
  same(keybound.thumbprint(rfc8705_pem), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")
  same(keybound.thumbprint((rfc8705_pem:gsub("\n", "\r\n"))), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")
  same(select("#", keybound.thumbprint(rfc8705_pem)), 1)
end)

rule("rfc8705_3_1_c PEM and DER have one thumbprint", function()
  same(keybound.thumbprint(fixtures.client_pem), fixtures.x5t)
  same(keybound.thumbprint(client_der), fixtures.x5t)
end)

rule("a certificate that is not exactly one is refused", function()
  refused("PEM", keybound.thumbprint, fixtures.client_pem .. fixtures.client_pem)
  refused("PEM", keybound.thumbprint, "-----BEGIN CERTIFICATE-----")
  refused("base64", keybound.thumbprint, (fixtures.client_pem:gsub("MII", "MI*")))
  refused("DER", keybound.thumbprint, client_der .. "\0")
  refused("DER", keybound.thumbprint, client_der:sub(1, -2))
  refused("DER", keybound.thumbprint, "")
  refused("DER", keybound.thumbprint, ("\0\255"):rep(50))
  refused("larger", keybound.thumbprint, ("x"):rep(1e6))
end)

rule("rfc7638_3_a a JWK has its thumbprint", function()
  local jwk = '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
  same(keybound.jwk_thumbprint(jwk), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
  refused("symmetric", keybound.jwk_thumbprint, '{"kty":"oct","k":"AAAA"}')
  refused("JSON", keybound.jwk_thumbprint, "")
  refused("object", keybound.jwk_thumbprint, "[]")
end)

rule("the module has a version and a null", function()
  assert(keybound.version:match("^%d+%.%d+%.%d+$"), keybound.version)
  same(type(keybound.null), "userdata")
end)

-- Misuse -------------------------------------------------------------------------------------------------------------

rule("an argument of the wrong type gives nil and a message", function()
  local v, e = keybound.verifier(config()), keybound.engine(config())
  for _, name in ipairs { "thumbprint", "jwk_thumbprint", "verifier", "engine" } do
    refused("bad argument #1 to '" .. name .. "'", keybound[name])
    for _, value in ipairs(others) do refused("bad argument #1 to '" .. name .. "'", keybound[name], value) end
  end
  refused("string expected, got table", keybound.thumbprint, {})
  refused("string expected, got table", keybound.jwk_thumbprint, {})
  refused("bad argument #1 to 'verify'", v.verify, v)
  refused("bad argument #1 to 'decide'", e.decide, e)
  for _, value in ipairs(others) do
    refused("bad argument #1 to 'verify'", v.verify, v, value)
    refused("bad argument #1 to 'decide'", e.decide, e, value)
  end
  refused("table expected, got string", v.verify, v, fixtures.bound)
end)

rule("a field of the wrong type gives nil and a message that names it", function()
  local v, e = keybound.verifier(config()), keybound.engine(config())
  for _, value in ipairs(others) do
    refused("token", v.verify, v, { token = value })
    refused("cert", v.verify, v, { token = "", cert = value })
    for _, name in ipairs { "authorization", "query", "cert" } do
      refused(name, e.decide, e, { [name] = value })
    end
    if type(value) ~= "number" then
      refused("now", v.verify, v, { token = "", now = value })
      refused("now", e.decide, e, { now = value })
      refused("authorization_count", e.decide, e, { authorization_count = value })
    end
    if type(value) ~= "boolean" then refused("early_data", e.decide, e, { early_data = value }) end
  end
  refused("token: string expected, got nil", v.verify, v, {})
  for _, value in ipairs { 0 / 0, 1 / 0, -1 / 0, 1e300, "1800000010" } do
    refused("now", v.verify, v, { token = "", now = value })
  end
  for _, value in ipairs { -1, 1.5, 0 / 0, 1 / 0, 4294967296, "1" } do
    refused("authorization_count", e.decide, e, { authorization_count = value })
  end
end)

rule("an unknown field is refused, so that a misspelt one leaves no check out", function()
  local v, e = keybound.verifier(config()), keybound.engine(config())
  refused("unknown field certificate; the fields are token, cert, now", v.verify, v, with(request, { certificate = "" }))
  refused("unknown field early", e.decide, e, with(facts, { early = true }))
  refused("unknown number", e.decide, e, { "Bearer x" })
  refused("unknown table", e.decide, e, { [{}] = 1 })
  refused("metatable", e.decide, e, setmetatable({}, { __index = facts }))
  refused("metatable", v.verify, v, setmetatable({}, { __index = error, __metatable = false }))
  same(v:verify(setmetatable(with(request, {}), { __newindex = error })).allowed, true)
end)

rule("a method of another object, or called with a dot, gives nil and a message", function()
  local v, e = keybound.verifier(config()), keybound.engine(config())
  refused("calling 'verify' on bad self (verifier expected", v.verify, e, request)
  refused("calling 'decide' on bad self (engine expected", e.decide, v, facts)
  for _, value in ipairs(others) do
    if value ~= others[9] then refused("bad self", v.verify, value, request) end
    refused("bad self", e.decide, value, facts)
    refused("bad self", e.warnings, value)
    refused("bad self", e.upstream_headers, value)
  end
  refused("bad self", v.verify, request)
  refused("bad self", e.warnings)
  same(v.decide, nil)
  same(getmetatable(v), false)
end)

-- Configuration ------------------------------------------------------------------------------------------------------

local function json_config(extra)
  return '{"issuer":"https://as.example","audience_required":["https://api.example"],"jwks":{"keys":[' .. fixtures.jwk .. ']}'
    .. (extra or "") .. "}"
end

rule("a table and its JSON are one configuration", function()
  for _, pair in ipairs {
    { {}, "" },
    { { leeway = 60 }, ',"leeway":60' },
    { { leeway = 60.0 }, ',"leeway":60.0' },
    { { proof_of_possession_mtls = "optional" }, ',"proof_of_possession_mtls":"optional"' },
    { { scopes_required = { "admin" } }, ',"scopes_required":["admin"]' },
    { { scopes_required = { "admin", "read" } }, ',"scopes_required":["admin","read"]' },
    { { client_certificate_validity = false }, ',"client_certificate_validity":false' },
    { { upstream_headers_claims = { { "deep", "a" } }, upstream_headers_names = { "X-A" } },
      ',"upstream_headers_claims":[["deep","a"]],"upstream_headers_names":["X-A"]' },
  } do
    local table_engine, json_engine = assert(keybound.engine(config(pair[1]))), assert(keybound.engine(json_config(pair[2])))
    for _, token in ipairs { fixtures.bound, fixtures.unbound } do
      for _, at in ipairs { now, fixtures.expires + 30 } do
        local asked = with(facts, { authorization = "Bearer " .. token, now = at })
        deep(table_engine:decide(asked), json_engine:decide(asked))
      end
    end
  end
  -- Refused ones say the same.
  for _, pair in ipairs {
    { { leeway = 61 }, ',"leeway":61' },
    { { leeway = 0.5 }, ',"leeway":0.5' },
    { { leeway = keybound.null }, ',"leeway":null', "leeway" },
    { { scopes_required = {} }, ',"scopes_required":[]' },
    { { scopes_required = { "a", 1 } }, ',"scopes_required":["a",1]' },
    { { realm = "caf\195\169" }, ',"realm":"caf\195\169"' },
    { { realm = "a\0b" }, ',"realm":"a\\u0000b"' },
    { { proof_of_possession_mtl = "strict" }, ',"proof_of_possession_mtl":"strict"' },
  } do
    local changes = config(pair[1])
    if pair[3] then changes[pair[3]] = keybound.null end
    local from_table, table_message = keybound.engine(changes)
    local from_json, json_message = keybound.engine(json_config(pair[2]))
    same(from_table, nil)
    same(from_json, nil)
    -- The text is another one, and so the place in it.
    same(table_message:gsub(" at line.*", ""), json_message:gsub(" at line.*", ""))
  end
end)

rule("the key set may be a table, a table's JSON in a string, or JSON", function()
  for _, jwks in ipairs { config().jwks, '{"keys":[' .. fixtures.jwk .. "]}" } do
    same(assert(keybound.verifier(config { jwks = jwks })):verify(request).allowed, true)
  end
  same(keybound.verifier(json_config()):verify(request).allowed, true)
end)

rule("an unknown option is refused with the nearest name", function()
  for _, make in ipairs { keybound.verifier, keybound.engine } do
    refused("scope_required: unknown option; did you mean scopes_required?", make, config { scope_required = { "a" } })
    refused("scope_required: unknown option; did you mean scopes_required?", make, json_config ',"scope_required":["a"]')
    refused("unknown option; the options are issuer", make, config { zzzzzzzzzz = 1 })
  end
end)

rule("the order of a table is that of its numbers, and of its names", function()
  local e = assert(keybound.engine(config {
    upstream_headers_claims = { "a", "b", "c", "d", "e", "f", "g" },
    -- Lua keeps these in its hash part, where 7 of 8 comes first.
    upstream_headers_names = { [7] = "G", [6] = "F", [5] = "E", [4] = "D", [3] = "C", [2] = "B", [1] = "A" },
  }))
  deep(e:upstream_headers(), { "A", "B", "C", "D", "E", "F", "G" })
  local unknown = {}
  for i = 20, 1, -1 do unknown[("zz%02d"):format(i)] = i end
  refused("zz01: unknown option", keybound.engine, config(unknown))
end)

rule("a configuration that leaves a check out is refused", function()
  refused("issuer: required", keybound.engine, {})
  refused("issuer: required", keybound.engine, "{}")
  refused("audience_required: required", keybound.engine, config { audience_required = absent })
  refused("jwks: required", keybound.engine, config { jwks = absent })
  refused("proofs are not supported", keybound.engine, config {
    proof_of_possession_dpop = "strict", public_origin = "https://api.example", store_secret = ("x"):rep(32),
  })
  refused("needs an engine", keybound.verifier, config {
    proof_of_possession_dpop = "strict", public_origin = "https://api.example", store_secret = ("x"):rep(32),
  })
  refused("not a JSON object", keybound.engine, "")
  refused("not a JSON object", keybound.engine, "[]")
end)

rule("a table that cannot be JSON is refused with its path", function()
  local cycle = { keys = {} }
  cycle.keys[1] = { again = cycle }
  refused("jwks.keys[1].again: the table contains itself", keybound.engine, config { jwks = cycle })
  local own = config()
  own.jwks = own
  refused("jwks: the table contains itself", keybound.engine, own)
  local tower = {}
  for _ = 1, 20 do tower = { tower } end
  refused("jwks[1][1]", keybound.engine, config { jwks = tower })
  refused("more than 16 tables inside each other", keybound.engine, config { jwks = tower })
  refused("leeway: a number that is not finite", keybound.engine, config { leeway = 0 / 0 })
  refused("leeway: a number that is not finite", keybound.engine, config { leeway = 1 / 0 })
  refused("realm: a function cannot be JSON", keybound.engine, config { realm = print })
  refused("jwks.keys[2].x: a userdata cannot be JSON", keybound.engine,
    config { jwks = { keys = { { kty = "OKP" }, { x = io.stdout } } } })
  refused("realm: a thread cannot be JSON", keybound.engine, config { realm = coroutine.create(print) })
  if jit_ffi then refused("leeway: a cdata cannot be JSON", keybound.engine, config { leeway = jit_ffi.new("int64_t", 1) }) end
  refused("realm: a string that is not UTF-8", keybound.engine, config { realm = "\255" })
  refused("jwks: a string that is not UTF-8", keybound.engine, config { jwks = { ["\255"] = 1 } })
  refused("scopes_required: the keys are neither", keybound.engine, config { scopes_required = { "a", n = 1 } })
  refused("scopes_required: the keys are numbers, but not 1 to n", keybound.engine, config { scopes_required = { [0] = "a" } })
  refused("scopes_required: the keys are numbers, but not 1 to n", keybound.engine,
    config { scopes_required = { [1] = "a", [3] = "c" } })
  refused("the keys are numbers, but not 1 to n", keybound.engine, { [-1] = "a" })
  refused("scopes_required: a key is a boolean", keybound.engine, config { scopes_required = { [true] = "a" } })
  refused("scopes_required: a key is a number", keybound.engine, config { scopes_required = { [1.5] = "a" } })
  refused("the configuration: a key is a table", keybound.engine, config { [{}] = "a" })
  refused("the configuration: the table has a metatable", keybound.engine, setmetatable({}, { __index = config() }))
  refused("scopes_required: the table has a metatable", keybound.engine,
    config { scopes_required = setmetatable({}, { __pairs = error }) })
end)

rule("a table too large for a configuration is refused", function()
  local long, wide = {}, {}
  for i = 1, 1e5 do long[i] = "x" end
  refused("scopes_required: the configuration has more than 65536 values", keybound.engine, config { scopes_required = long })
  -- Few tables, but each 64 times in the next.
  for _ = 1, 10 do
    local next = {}
    for i = 1, 64 do next[i] = wide end
    wide = next
  end
  refused("more than 65536 values", keybound.engine, { jwks = wide })
  refused("more than 524288 bytes", keybound.engine, config { realm = ("x"):rep(1e6) })
  refused("larger than", keybound.engine, json_config(',"realm":"' .. ("x"):rep(1e6) .. '"'))
end)

rule("one table may be in a configuration twice, and a plain metatable does not matter", function()
  local words = setmetatable({ "read" }, {})
  assert(keybound.engine(config { scopes_required = words, groups_required = words }))
end)

rule("a message never holds a value of the configuration", function()
  for _, value in ipairs { "secret", { "secret", 1 }, { secret = 1 } } do
    for _, name in ipairs { "leeway", "jwks", "algorithms", "token_types", "expose_error_code", "upstream_headers_claims" } do
      local engine, message = keybound.engine(config { [name] = value })
      same(engine, nil, name)
      assert(not message:find "secret", message)
    end
  end
end)

-- The verifier -------------------------------------------------------------------------------------------------------

rule("a bound token with its certificate is allowed, and with one fact changed it is not", function()
  local v = assert(keybound.verifier(config()))
  local allowed = assert(v:verify(request))
  same(allowed.allowed, true)
  same(allowed.reason, "allowed")
  same(allowed.claims.sub, "alice")
  same(allowed.claims.cnf["x5t#S256"], fixtures.x5t)
  same(v:verify(with(request, { cert = client_der })).allowed, true)
  local payload = fixtures.bound:match("%.(.*)%.")
  for _, twin in ipairs {
    { { cert = fixtures.thief_pem }, "certificate_mismatch" },
    { { cert = absent }, "certificate_missing" },
    { { cert = "" }, "certificate_malformed" },
    { { cert = fixtures.client_pem .. fixtures.client_pem }, "certificate_malformed" },
    { { token = fixtures.unbound }, "token_unbound" },
    { { token = "" }, "token_not_jwt" },
    { { token = "a\0b" }, "token_not_jwt" },
    { { token = ("x"):rep(1e6) }, "token_too_large" },
    { { token = fixtures.bound:gsub("[^.]*$", fixtures.lasting:match("[^.]*$")) }, "signature_invalid" },
    { { token = fixtures.unbound:gsub("%.(.*)%.", "." .. payload .. ".") }, "signature_invalid" },
    { { now = fixtures.expires }, "token_expired" },
    { { now = fixtures.issued - 61 }, "token_issued_in_future" },
  } do
    local denied = assert(v:verify(with(request, twin[1])))
    deep(denied, { allowed = false, reason = twin[2] })
  end
end)

rule("each option that is changed denies", function()
  for _, twin in ipairs {
    { { issuer = "https://as.example/" }, "issuer_mismatch" },
    { { audience_required = { "https://other.example" } }, "audience_mismatch" },
    { { algorithms = { "ES256" } }, "algorithm_refused" },
    { { scopes_required = { "read admin" } }, "insufficient_scope" },
    { { claims_required = { "acr" } }, "claim_missing" },
    { { jwks = { keys = { { kty = "OKP", crv = "Ed25519", x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" } } } },
      "key_unknown" },
  } do
    local v = assert(keybound.verifier(config(twin[1])))
    deep(v:verify(request), { allowed = false, reason = twin[2] })
  end
end)

rule("optional lets an unbound token through, and holds a bound one to its certificate", function()
  local v = assert(keybound.verifier(config { proof_of_possession_mtls = "optional" }))
  same(v:verify { token = fixtures.unbound, now = now }.allowed, true)
  same(v:verify(with(request, { cert = fixtures.thief_pem })).reason, "certificate_mismatch")
end)

rule("now may have a fraction, and is the system's clock where it is absent", function()
  local v = assert(keybound.verifier(config()))
  same(v:verify(with(request, { now = fixtures.expires - 0.001 })).allowed, true)
  same(v:verify(with(request, { now = fixtures.expires + 0.0 })).reason, "token_expired")
  local lasting = { token = fixtures.lasting, cert = fixtures.client_pem }
  same(v:verify(lasting).allowed, true)
  same(v:verify(with(lasting, { now = 0 })).reason, "token_issued_in_future")
  same(v:verify(with(lasting, { now = 4102444800 })).reason, "token_expired")
  same(keybound.engine(config()):decide { authorization = "Bearer " .. fixtures.lasting, cert = fixtures.client_pem }.step, "allow")
end)

rule("the claims are plain tables", function()
  local claims = keybound.verifier(config()):verify(request).claims
  deep(claims, {
    iss = "https://as.example", aud = "https://api.example", sub = "alice", client_id = "shop", jti = "1",
    iat = fixtures.issued, exp = fixtures.expires, cnf = { ["x5t#S256"] = fixtures.x5t }, scope = "read write",
    null = keybound.null, yes = true, no = false,
    -- LuaJIT has floats only; Lua 5.4 has integers to 2^63.
    big = lua54 and math.tointeger("9007199254740993") or 9007199254740992,
    max = lua54 and math.maxinteger or 2 ^ 63, beyond = 2 ^ 63, half = 0.5,
    text = "caf\195\169 \240\159\152\128 \"q\"", list = { 1, keybound.null, { 2, 3 }, { k = "v" } }, empty = {}, none = {},
    ["1"] = "one", deep = { a = { b = "c" } }, line = "a\r\nX-Admin: 1",
  })
  same(getmetatable(claims), nil)
end)

rule("no changed token is allowed", function()
  local v, e = assert(keybound.verifier(config())), assert(keybound.engine(config()))
  local seed = 1
  for i = 1, #fixtures.bound do
    seed = (seed * 16807) % 2147483647
    local byte = string.char(seed % 256)
    local token = fixtures.bound:sub(1, i - 1) .. byte .. fixtures.bound:sub(i + 1)
    if token ~= fixtures.bound then
      same(assert(v:verify(with(request, { token = token }))).allowed, false, "byte " .. i)
      same(assert(e:decide(with(facts, { authorization = "Bearer " .. token }))).step, "respond", "byte " .. i)
    end
    same(assert(v:verify(with(request, { token = fixtures.bound:sub(1, i - 1) }))).allowed, false)
  end
end)

-- The engine ---------------------------------------------------------------------------------------------------------

rule("an allowed request has the step, the claims and the headers", function()
  local e = assert(keybound.engine(config()))
  local decision = assert(e:decide(facts))
  same(decision.allowed, true)
  same(decision.step, "allow")
  same(decision.reason, "allowed")
  same(decision.reported, nil)
  same(decision.claims.sub, "alice")
  deep(decision.headers, {})
  deep(decision.response_headers, {})
  same(decision.status, nil)
  for _, changes in ipairs {
    { cert = client_der },
    { authorization = "bEaReR   " .. fixtures.bound },
    { query = "a=b" },
    { query = "" },
    { authorization_count = 1 },
    { authorization_count = 1.0 },
    { early_data = false },
  } do
    same(assert(e:decide(with(facts, changes))).step, "allow")
  end
end)

rule("rfc6750_3_1_a a refused request has the whole answer", function()
  local e = assert(keybound.engine(config { realm = "api", scopes_required = { "read" } }))
  local strict = assert(keybound.engine(config { scopes_required = { "admin" } }))
  for _, twin in ipairs {
    { e, { cert = fixtures.thief_pem }, "certificate_mismatch", 401, 'Bearer realm="api", error="invalid_token"', "Unauthorized" },
    { e, { cert = absent }, "certificate_missing", 401, 'Bearer realm="api", error="invalid_token"', "Unauthorized" },
    { e, { now = fixtures.expires }, "token_expired", 401, 'Bearer realm="api", error="invalid_token"', "Unauthorized" },
    { e, { authorization = absent }, "no_token", 401, 'Bearer realm="api"', "Unauthorized" },
    { e, { authorization = "Basic YTpi" }, "no_token", 401, 'Bearer realm="api"', "Unauthorized" },
    { e, { authorization = "Bearer" }, "malformed_authorization", 400, 'Bearer realm="api", error="invalid_request"', "Bad Request" },
    { e, { authorization_count = 2 }, "several_tokens", 400, 'Bearer realm="api", error="invalid_request"', "Bad Request" },
    { e, { query = "a&access_token=x" }, "several_tokens", 400, 'Bearer realm="api", error="invalid_request"', "Bad Request" },
    { e, { early_data = true }, "early_data", 425, nil, "Too Early" },
    { strict, {}, "insufficient_scope", 403, 'Bearer error="insufficient_scope", scope="admin"', "Forbidden" },
  } do
    deep(assert(twin[1]:decide(with(facts, twin[2]))), {
      allowed = false, step = "respond", reason = twin[3], status = twin[4], www_authenticate = twin[5],
      body = '{"message":"' .. twin[6] .. '"}', content_type = "application/json; charset=utf-8",
    }, twin[3])
  end
end)

rule("a remembered token is held to the certificate and to the time again", function()
  local e = assert(keybound.engine(config()))
  for _ = 1, 3 do
    same(e:decide(facts).claims.sub, "alice")
    same(e:decide(with(facts, { cert = fixtures.thief_pem })).reason, "certificate_mismatch")
    same(e:decide(with(facts, { cert = absent })).reason, "certificate_missing")
    same(e:decide(with(facts, { now = fixtures.expires })).reason, "token_expired")
  end
end)

rule("claims go upstream as headers, and one that cannot is false", function()
  local e = assert(keybound.engine(config {
    upstream_headers_claims = { "sub", "big", "yes", "list", { "deep", "a", "b" }, "line", "null", "missing" },
    upstream_headers_names = { "X-Sub", "X-Big", "X-Yes", "X-List", "X-Deep", "X-Line", "X-Null", "X-Missing" },
  }))
  deep(e:upstream_headers(), { "X-Sub", "X-Big", "X-Yes", "X-List", "X-Deep", "X-Line", "X-Null", "X-Missing" })
  for _ = 1, 2 do
    deep(e:decide(facts).headers, {
      ["X-Sub"] = "alice", ["X-Big"] = "9007199254740993", ["X-Yes"] = "true", ["X-List"] = '[1,null,[2,3],{"k":"v"}]',
      ["X-Deep"] = "c", ["X-Line"] = false, ["X-Null"] = false, ["X-Missing"] = false,
    })
  end
  same(e:decide(with(facts, { cert = absent })).headers, nil)
  deep(keybound.engine(config()):upstream_headers(), {})
end)

rule("claims go to the client as headers, where they are there", function()
  local e = assert(keybound.engine(config {
    downstream_headers_claims = { "sub", { "deep", "a", "b" }, "line", "missing" },
    downstream_headers_names = { "X-Sub", "X-Deep", "X-Line", "X-Missing" },
  }))
  local decision = e:decide(facts)
  deep(decision.response_headers, { ["X-Sub"] = "alice", ["X-Deep"] = "c" })
  deep(decision.headers, {})
  same(e:decide(with(facts, { cert = absent })).response_headers, nil)
end)

rule("hidden credentials are a header that is false, and none to remove before", function()
  local e = assert(keybound.engine(config { hide_credentials = true }))
  deep(e:decide(facts).headers, { authorization = false })
  deep(e:upstream_headers(), {})
  deep(keybound.engine(config { hide_credentials = false }):decide(facts).headers, {})
end)

rule("with report_only what would be refused passes, says so, and has no claims and no headers", function()
  local names = { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-Sub" }, hide_credentials = true }
  local reporting = assert(keybound.engine(config(with(names, { report_only = true }))))
  local refusing = assert(keybound.engine(config(names)))
  for _, twin in ipairs {
    { { cert = fixtures.thief_pem }, "certificate_mismatch" },
    { { cert = absent }, "certificate_missing" },
    { { now = fixtures.expires }, "token_expired" },
    { { authorization = absent }, "no_token" },
    { { early_data = true }, "early_data" },
  } do
    local asked = with(facts, twin[1])
    deep(reporting:decide(asked), {
      allowed = true, step = "allow", reported = true, reason = twin[2], headers = { ["X-Sub"] = false }, response_headers = {},
    })
    local refused = refusing:decide(asked)
    same(refused.allowed, false)
    same(refused.reason, twin[2])
  end
  local allowed = reporting:decide(facts)
  same(allowed.reported, nil)
  same(allowed.claims.sub, "alice")
  deep(allowed.headers, { ["X-Sub"] = "alice", authorization = false })
  assert(reporting:warnings()[1]:find("report_only is true: nothing is refused", 1, true))
  deep(refusing:warnings(), {})
  -- A verifier tells what it finds.
  local v = assert(keybound.verifier(config { report_only = true }))
  deep(v:verify(with(request, { cert = fixtures.thief_pem })), { allowed = false, reason = "certificate_mismatch" })
end)

rule("a skipped key is a warning", function()
  local jwks = config().jwks
  table.insert(jwks.keys, 1, { kty = "oct", kid = "shared", k = "c2VjcmV0" })
  local e = assert(keybound.engine(config { jwks = jwks }))
  local warnings = e:warnings()
  same(#warnings, 1)
  assert(warnings[1]:find('key 0 (kid "shared") skipped', 1, true), warnings[1])
  assert(not warnings[1]:find "c2VjcmV0", warnings[1])
  same(e:decide(facts).step, "allow")
  deep(keybound.engine(config()):warnings(), {})
end)

-- Life ---------------------------------------------------------------------------------------------------------------

local function resident() -- KiB
  local status = assert(io.open "/proc/self/status")
  local text = status:read "*a"
  status:close()
  return tonumber(text:match "VmRSS:%s*(%d+)")
end

rule("engines and verifiers are collected with all that they hold", function()
  local json = json_config()
  local function round()
    local live = setmetatable({}, { __mode = "k" })
    for _ = 1, 100 do
      local e, v = assert(keybound.engine(json)), assert(keybound.verifier(json))
      live[e], live[v] = true, true
      assert(e:decide(facts).step == "allow" and v:verify(request).allowed)
    end
    collectgarbage()
    collectgarbage()
    return next(live)
  end
  for _ = 1, 5 do round() end
  local before = resident()
  for _ = 1, 50 do same(round(), nil, "still alive") end
  local growth = resident() - before
  assert(growth < 4096, "5000 engines and verifiers left " .. growth .. " KiB behind")
end)

rule("many calls leave nothing behind", function()
  local e, v = assert(keybound.engine(config())), assert(keybound.verifier(config()))
  local function round()
    for _ = 1, 2000 do
      assert(e:decide(facts).step == "allow")
      assert(e:decide(with(facts, { cert = fixtures.thief_pem })).step == "respond")
      assert(v:verify { token = "x" }.allowed == false)
      assert(v:verify { token = 1 } == nil)
      assert(keybound.engine {} == nil)
    end
    collectgarbage()
    collectgarbage()
    return collectgarbage "count"
  end
  round()
  local lua, process = round(), resident()
  local grown = round() - lua
  assert(grown < 64, "Lua's memory grew by " .. grown .. " KiB")
  assert(resident() - process < 4096, "the process grew")
end)

rule("what an engine gave lives longer than the engine", function()
  local e = assert(keybound.engine(config { realm = "api" }))
  local allowed, denied, method = e:decide(facts), e:decide {}, e.decide
  e = nil
  collectgarbage()
  collectgarbage()
  same(allowed.claims.deep.a.b, "c")
  same(denied.www_authenticate, 'Bearer realm="api"')
  refused("bad self", method, e, facts)
end)

rule("an engine may be used from a finalizer that runs during its own call", function()
  local e, runs = assert(keybound.engine(config())), 0
  local function leave()
    local function finalize()
      assert(e:decide(facts).step == "allow")
      runs = runs + 1
    end
    if lua54 then
      setmetatable({}, { __gc = finalize })
    else
      getmetatable(newproxy(true)).__gc = finalize
    end
  end
  for _ = 1, 2000 do
    leave()
    same(e:decide(facts).step, "allow")
  end
  collectgarbage()
  assert(runs > 0)
end)

rule("coroutines may share objects and be left half way", function()
  local e = coroutine.wrap(function() return keybound.engine(config()) end)()
  local threads = {}
  for i = 1, 50 do
    threads[i] = coroutine.create(function(asked)
      while true do asked = coroutine.yield(e:decide(asked)) end
    end)
  end
  for _ = 1, 3 do
    for i, thread in ipairs(threads) do
      local ok, decision = coroutine.resume(thread, i % 2 == 0 and facts or with(facts, { cert = absent }))
      assert(ok, decision)
      same(decision.step, i % 2 == 0 and "allow" or "respond")
    end
  end
  threads = nil
  collectgarbage()
  same(e:decide(facts).step, "allow")
  -- In a thread that ended with an error.
  local dead = coroutine.create(function() error(e:decide(facts).step) end)
  same(coroutine.resume(dead), false)
  same(e:decide(facts).step, "allow")
end)

-- Runs `program` in a new interpreter of the same kind, and gives its output and whether it ended well.
local function child(program)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write("package.cpath = ", ("%q"):format(package.cpath), "\n", program)
  file:close()
  local pipe = assert(io.popen(("'%s' '%s' 2>&1 </dev/null; echo \"ended $?\""):format(arg[-1], name)))
  local output = pipe:read "*a"
  pipe:close()
  os.remove(name)
  return output
end

rule("the module may be loaded first in a coroutine that is gone afterwards", function()
  local output = child [[
    local keybound = coroutine.wrap(function() return require "keybound" end)()
    for _ = 1, 5 do collectgarbage() end
    for _ = 1, 1000 do
      local e, message = keybound.engine { issuer = { function() end } }
      assert(e == nil and message:find "issuer", message)
      assert(coroutine.wrap(function() return keybound.thumbprint "" end)() == nil)
    end
    collectgarbage()
    print "done"
  ]]
  same(output, "done\nended 0\n")
end)

rule("objects that live until the interpreter ends do no harm", function()
  local output = child(([[
    keybound = require "keybound"
    kept = {}
    for i = 1, 100 do kept[i] = assert(keybound.engine(%q)) end
    kept.self = kept
    package.loaded.keybound = nil
    assert(require "keybound".version == keybound.version)
    print "done"
  ]]):format(json_config()))
  same(output, "done\nended 0\n")
end)

print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0, true)
