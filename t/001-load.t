# Loading the module and the library, and making engines: what is refused, and with what words.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# Each line of `--- refused` is a Lua expression of options (see `engine`) and behind `=>` the message that it must give.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $refused = $block->refused // return;
    my ($code, $body) = ('', '');
    for my $line (split /\n/, $refused) {
        my ($options, $message) = $line =~ /^(.+?)\s+=>\s+(.*)$/ or die "no => in: $line\n";
        $code .= "say(options $options)\n";
        $body .= "keybound.new: $message\n";
    }
    $block->set_value(config => <<"EOC");
location /t {
    content_by_lua_block {
        local null = require("cjson").null
        local function say(config)
            local engine, err = require("resty.keybound").new(config)
            ngx.say(engine and "accepted" or err)
        end
        $code
    }
}
EOC
    $block->set_value(request => 'GET /t');
    $block->set_value(response_body => $body);
    $block->set_value(no_error_log => "[error]\n[warn]\n");
});

run_tests();

__DATA__

=== TEST 1: the module loads and has the version of the library
--- engine
--- config
location /t {
    content_by_lua_block {
        local keybound = require "resty.keybound"
        local file = io.open(ngx.var.arg_root .. "/Cargo.toml")
        local version = file:read("*a"):match('\nversion = "([^"]+)"')
        file:close()
        ngx.say(keybound._VERSION == version and "same" or keybound._VERSION .. " and " .. version)
        ngx.say(type(keybound.new), " ", type(keybound.access), " ", type(keybound.decide), " ", type(keybound.thumbprint))
    }
}
--- request eval
"GET /t?root=$main::ROOT"
--- response_body
same
function function function function
--- no_error_log
[error]
[warn]

=== TEST 2: no library: the message says where it was looked for
--- engine
--- config
location /t {
    content_by_lua_block {
        -- A library that is installed on the machine must not be found.
        local ffi = require "ffi"
        local load, cpath, asked = ffi.load, package.cpath, {}
        ffi.load = function(name) asked[#asked + 1] = name error("none") end
        package.cpath = "/nowhere/?.so;/nor/here/?.so"
        local ok, err = pcall(require, "resty.keybound")
        ffi.load, package.cpath = load, cpath
        ngx.say(ok, " ", err:match("libkeybound.so is not found.*"))
        ngx.say(table.concat(asked, " "))
        for name in pairs(package.loaded) do
            if name:find("^resty%.keybound") then package.loaded[name] = nil end
        end
        ngx.say((pcall(require, "resty.keybound")))
    }
}
--- request
GET /t
--- response_body
false libkeybound.so is not found; tried /nowhere/libkeybound.so, /nor/here/libkeybound.so, libkeybound.so.1, keybound
libkeybound.so.1 keybound
true
--- no_error_log
[error]

=== TEST 3: a library with another ABI is refused
--- engine
--- init
my $dir = "$main::RUN/abi";
mkdir $dir;
write_file("$dir/abi.c", "unsigned kb_abi_version(void) { return 2; }\nconst char *kb_version(void) { return \"9\"; }\n");
my ($status, undef, $err) = command('', 'cc', '-shared', '-fPIC', '-o', "$dir/libkeybound.so", "$dir/abi.c");
die $err if $status;
--- config
location /t {
    content_by_lua_block {
        local cpath = package.cpath
        package.cpath = ngx.var.arg_dir .. "/?.so;" .. cpath
        local ok, err = pcall(require, "resty.keybound")
        package.cpath = cpath
        ngx.say(ok, " ", err:match("libkeybound with ABI.*"))
        for name in pairs(package.loaded) do
            if name:find("^resty%.keybound") then package.loaded[name] = nil end
        end
        ngx.say((pcall(require, "resty.keybound")))
    }
}
--- request eval
"GET /t?dir=$main::RUN/abi"
--- response_body
false libkeybound with ABI 1 required but got 2
true
--- no_error_log
[error]

=== TEST 4: an unknown option is refused, with the nearest name
--- refused
{ proof_of_posession_mtls = "strict" } => proof_of_posession_mtls: unknown option; did you mean proof_of_possession_mtls?
{ scope_required = { "a" } } => scope_required: unknown option; did you mean scopes_required?
{ Issuer = "i" } => Issuer: unknown option; did you mean issuer?
{ algorithm = { "ES256" } } => algorithm: unknown option; did you mean algorithms?
{ client_certificate_valid = true } => client_certificate_valid: unknown option; did you mean client_certificate_validity?
{ token_cache_size = 1 } => token_cache_size: unknown option; did you mean token_cache_bytes?

=== TEST 5: an option unlike any is refused, with all names
--- config
location /t {
    content_by_lua_block {
        local _, err = require("resty.keybound").new(options { turn_everything_off = true })
        local names = err:match("^keybound.new: turn_everything_off: unknown option; the options are (.*)$")
        local count = 0
        for name in names:gmatch("[^, ]+") do
            count = count + 1
            -- Each name is one: alone, it is not what is unknown.
            local _, why = require("resty.keybound").new({ [name] = "" })
            if not why or why:find("unknown", 1, true) then ngx.say(name, ": ", why) end
        end
        ngx.say(count > 20 and "many" or names)
    }
}
--- request
GET /t
--- response_body
many
--- no_error_log
[error]

=== TEST 6: 9068-4-d: an audience is required, unless it is waived by name
--- config
location /t {
    content_by_lua_block {
        local null = require("cjson").null
        local function say(more)
            local engine, err = require("resty.keybound").new(options(more))
            ngx.say(engine and "accepted" or err)
        end
        say { audience_required = null }
        say { audience_required = null, insecure_any_audience = false }
        say { audience_required = null, insecure_any_audience = true }
        say { insecure_any_audience = true }
        say {}
    }
}
--- request
GET /t
--- response_body
keybound.new: audience_required: required: without it a token for another service of the issuer would pass; set insecure_any_audience to true if that is meant
keybound.new: audience_required: required: without it a token for another service of the issuer would pass; set insecure_any_audience to true if that is meant
accepted
keybound.new: insecure_any_audience: contradicts audience_required
accepted
--- no_error_log
[error]

=== TEST 7: an issuer is required
--- refused
{ issuer = null } => issuer: required: the issuer identifier of the authorization server, as in its tokens' iss
{ issuer = "" } => issuer: must not be empty
{ jwks = {} } => jwks: a JWK set is an object with an array "keys"
{ jwks = "no JSON" } => jwks: the JWK set is refused: expected an object at line 1 column 2

=== TEST 8: wrong types and values are refused, with what is valid
--- refused
{ issuer = 1 } => issuer: must be a string, not a number
{ proof_of_possession_mtls = "Strict" } => proof_of_possession_mtls: must be strict, optional or off
{ proof_of_possession_mtls = false } => proof_of_possession_mtls: must be a string, not a boolean
{ client_certificate_validity = "true" } => client_certificate_validity: must be true or false, not a string
{ client_certificate_validity = 1 } => client_certificate_validity: must be true or false, not a number
{ audience_required = "a" } => audience_required: must be an array of at least one string, or of arrays of strings with spaces
{ audience_required = {} } => audience_required: must be an array of at least one string, or of arrays of strings with spaces
{ audience_required = { "" } } => audience_required: an entry holds no word
{ audience_required = { " " } } => audience_required: an entry holds no word
{ leeway = 61 } => leeway: must be a whole number from 0 to 60
{ leeway = -1 } => leeway: must be a whole number from 0 to 60
{ leeway = 0.5 } => leeway: must be a whole number from 0 to 60
{ leeway = "1" } => leeway: must be a whole number from 0 to 60
{ token_cache_entries = 1000001 } => token_cache_entries: must be a whole number from 0 to 1000000
{ token_cache_bytes = 1073741825 } => token_cache_bytes: must be a whole number from 0 to 1073741824
{ token_types = { "jwt" } } => token_types: must be of at+jwt, JWT, none
{ scopes_claim = { "scp" } } => scopes_claim: has no effect without scopes_required
{ upstream_headers_names = { "X-A" } } => upstream_headers_names: must have one name for each entry of upstream_headers_claims

=== TEST 9: the largest values are accepted
--- config
location /t {
    content_by_lua_block {
        local engine, err = require("resty.keybound").new(options {
            leeway = 60, token_cache_entries = 1000, token_cache_bytes = 1073741824, token_types = { "at+jwt", "JWT" },
            scopes_required = { "a b", "c" }, scopes_claim = { "scp" }, client_certificate_validity = true,
            upstream_headers_claims = { "sub", { "a", "b" } }, upstream_headers_names = { "X-A", "X-B" },
            proof_of_possession_mtls = "optional", realm = "r", algorithms = { "ES256" }, claims_required = { "sub" },
        })
        ngx.say(engine and "accepted" or err)
    }
}
--- request
GET /t
--- response_body
accepted
--- no_error_log
[error]
[warn]

=== TEST 10: 9068-2.1-b: algorithms that sign nothing, or with a shared secret, cannot be configured
--- config
location /t {
    content_by_lua_block {
        for _, name in ipairs { "none", "HS256", "es256", "" } do
            local engine, err = require("resty.keybound").new(options { algorithms = { "ES256", name } })
            ngx.say(engine and "accepted" or err:match("^keybound.new: algorithms: must be"))
        end
        ngx.say(require("resty.keybound").new(options { algorithms = { "ES256", "RS256" } }) and "accepted")
    }
}
--- request
GET /t
--- response_body
keybound.new: algorithms: must be
keybound.new: algorithms: must be
keybound.new: algorithms: must be
keybound.new: algorithms: must be
accepted
--- no_error_log
[error]

=== TEST 11: upstream headers that would change what the request means are refused
--- config
location /t {
    content_by_lua_block {
        for _, name in ipairs { "Authorization", "host", "Connection", "content-length", "Transfer-Encoding", "X_User", "X User", "X:A", "X\nA" } do
            local engine = require("resty.keybound").new(options { upstream_headers_claims = { "sub" }, upstream_headers_names = { name } })
            ngx.say((name:gsub("\n", "LF")), ": ", engine and "accepted" or "refused")
        end
        local engine = require("resty.keybound").new(options { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } })
        ngx.say("X-User: ", engine and "accepted" or "refused")
    }
}
--- request
GET /t
--- response_body
Authorization: refused
host: refused
Connection: refused
content-length: refused
Transfer-Encoding: refused
X_User: refused
X User: refused
X:A: refused
XLFA: refused
X-User: accepted
--- no_error_log
[error]

=== TEST 12: what new() takes beside the configuration
--- config
location /t {
    content_by_lua_block {
        local function say(opts)
            local engine, err = require("resty.keybound").new(options(), opts)
            ngx.say(engine and "accepted" or err)
        end
        say { context = false }
        say { ctx = "no" }
        say { certificate_source = true }
        say { certificate_source = "header" }
        say { certificate_source = "SSL" }
        say "ssl"
        say(1)
        say { certificate_source = "ssl", ctx = false }
        say { certificate_source = "variable", ctx = true }
        say {}
        say(nil)
    }
}
--- request
GET /t
--- response_body
keybound.new: context: unknown option of the Lua side; it has certificate_source, ctx, metrics and store
keybound.new: ctx: must be a boolean
keybound.new: certificate_source: must be a string
keybound.new: certificate_source: must be ssl or variable
keybound.new: certificate_source: must be ssl or variable
keybound.new: expect a table at #2
keybound.new: expect a table at #2
accepted
accepted
accepted
accepted
--- no_error_log
[error]

=== TEST 13: what is no configuration
--- config
location /t {
    content_by_lua_block {
        local new = require("resty.keybound").new
        local function say(config)
            local engine, err = new(config)
            ngx.say(engine and "accepted" or err)
        end
        say(nil)
        say(true)
        say(7)
        say(print)
        say { issuer = print }
        say { [print] = 1 }
        say ""
        say "[]"
        say "{"
        say '{"issuer":"a","issuer":"b"}'
        say '{"issuer":"a"} x'
        say(require("cjson").encode(options()))
    }
}
--- request
GET /t
--- response_body_like chomp
^keybound.new: expect a table or a JSON string at #1
keybound.new: expect a table or a JSON string at #1
keybound.new: expect a table or a JSON string at #1
keybound.new: expect a table or a JSON string at #1
keybound.new: the configuration is not JSON: [^\n]+
keybound.new: the configuration is not JSON: [^\n]+
keybound.new: the configuration is not a JSON object: [^\n]+
keybound.new: the configuration is not a JSON object: [^\n]+
keybound.new: the configuration is not a JSON object: [^\n]+
keybound.new: the configuration is not a JSON object: [^\n]+
keybound.new: the configuration is not a JSON object: [^\n]+
accepted$
--- no_error_log
[error]

=== TEST 14: the keys as table and as text of JSON
--- engine
as_table = engine()
as_text = engine { jwks = cjson.encode(options().jwks) }
--- tls
location /text { access_by_lua_block { as_text:access() } content_by_lua_block { ngx.say("passed") } }
location / { access_by_lua_block { as_table:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
client bound  path=/     -> 200
client bound  path=/text -> 200
client forged path=/     -> 401 invalid_token signature_invalid
client forged path=/text -> 401 invalid_token signature_invalid
--- no_error_log
[error]
[warn] init

=== TEST 15: keys that are skipped are logged, with the reason and without the key
--- engine
local config = options()
table.insert(config.jwks.keys, 1, { kty = "oct", kid = "shared", k = "c2VjcmV0LXRleHQ" })
table.insert(config.jwks.keys, { kty = "EC", crv = "P-256", kid = "private", x = config.jwks.keys[2].x, y = config.jwks.keys[2].y, d = "c2VjcmV0LXRleHQ" })
table.insert(config.jwks.keys, { kty = "EC", crv = "secp256k1", kid = "curve", x = "AA", y = "AA" })
kb = assert(require("resty.keybound").new(config))
--- suppress_stderr
--- calls
client bound -> 200
--- error_log
[warn]
keybound: key 0 (kid "shared") skipped: 
keybound: key 3 (kid "private") skipped: 
keybound: key 4 (kid "curve") skipped: 
--- no_error_log
[error]
c2VjcmV0LXRleHQ
key 1 (
key 2 (

=== TEST 16: no warning where every key is used
--- calls
client bound -> 200
--- no_error_log
[warn]
[error]
skipped

=== TEST 17: a set of keys that cannot be used is refused, and no message holds a key or a value
--- config
location /t {
    content_by_lua_block {
        local new = require("resty.keybound").new
        local secret = "c2VjcmV0LXRleHQ"
        local function say(more)
            local engine, err = new(options(more))
            if engine then return ngx.say("accepted") end
            ngx.say(err:find(secret, 1, true) and err or "refused, and not told")
        end
        say { jwks = { keys = { { kty = "oct", k = secret } } } }
        say { jwks = { keys = { { kty = "EC", crv = "P-256", x = secret, y = secret, d = secret } } } }
        say { jwks = secret }
        say { issuer = { secret } }
        say { proof_of_possession_mtls = secret }
        say { algorithms = { secret } }
        say { token_types = { secret } }
        say { realm = '"' .. secret }
        say { upstream_headers_claims = { "sub" }, upstream_headers_names = { secret .. ":" } }
        say {}
    }
}
--- request
GET /t
--- response_body
refused, and not told
refused, and not told
refused, and not told
refused, and not told
refused, and not told
refused, and not told
refused, and not told
refused, and not told
refused, and not told
accepted
--- no_error_log
[error]

=== TEST 18: an engine made in init_worker decides
--- engine
--- http_config
init_worker_by_lua_block { kb = engine() }
--- calls
client bound -> 200
thief  bound -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 19: engines with different configurations decide each for itself
--- engine
strict = engine()
optional = engine { proof_of_possession_mtls = "optional" }
other = engine { audience_required = { "https://other.test" } }
--- tls
location /optional { access_by_lua_block { optional:access() } content_by_lua_block { ngx.say("passed") } }
location /other { access_by_lua_block { other:access() } content_by_lua_block { ngx.say("passed") } }
location / { access_by_lua_block { strict:access() } content_by_lua_block { ngx.say("passed") } }
--- tokens eval
+{ other => { for => 'client', claims => { aud => 'https://other.test' } } }
--- calls
- unbound      path=/         -> 401 invalid_token token_unbound
- unbound      path=/optional -> 200
- unbound      path=/other    -> 401 invalid_token audience_mismatch
client other   path=/         -> 401 invalid_token audience_mismatch
client other   path=/optional -> 401 invalid_token audience_mismatch
client other   path=/other    -> 200
client bound   path=/         -> 200
--- no_error_log
[error]

=== TEST 20: where there is no request nothing is allowed
--- engine
kb = engine()
local function log(what, ok, result)
    ngx.log(ngx.WARN, what, ": ", ok, " ", type(result) == "table" and tostring(result.allowed) or result)
end
log("access in init", pcall(kb.access, kb))
log("decide in init", pcall(kb.decide, kb))
function in_timer()
    log("access in timer", pcall(kb.access, kb))
    log("decide in timer", pcall(kb.decide, kb))
end
--- http_config
init_worker_by_lua_block { assert(ngx.timer.at(0, in_timer)) }
--- suppress_stderr
--- calls
client bound -> 200
--- wait: 0.1
--- error_log eval
[qr/access in init: false .*keybound: no request found/, qr/decide in init: false .*keybound: no request found/,
 qr/access in timer: false .*API disabled/, qr/decide in timer: true false/]
--- no_error_log
[error]
[alert]

=== TEST 21: 8705-3.1-c: the certificate of RFC 8705 appendix A has its thumbprint, as PEM and as DER
--- config
location /t {
    content_by_lua_block {
        local thumbprint = require("resty.keybound").thumbprint
        local base64 = [[
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
]]
        local pem = "-----BEGIN CERTIFICATE-----\n" .. base64 .. "-----END CERTIFICATE-----\n"
        ngx.say(thumbprint(pem))
        ngx.say(thumbprint((pem:gsub("\n", "\r\n"))))
        ngx.say(thumbprint((pem:gsub("\n", "\n\t"):gsub("\t$", ""))))
        ngx.say(thumbprint(ngx.decode_base64((base64:gsub("\n", "")))))
        ngx.say(thumbprint((pem:gsub("MIIBBjCBrAIBAj", "MIIBBjCBrAIBAz"))))
    }
}
--- request
GET /t
--- response_body eval
my $other = `openssl version` ? do {
    my $der = MIME::Base64::decode_base64('MIIBBjCBrAIBAzAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=');
    require Digest::SHA;
    Digest::SHA::sha256_base64($der) =~ tr{+/}{-_}r;
} : '';
("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0\n" x 4) . "$other\n"
--- no_error_log
[error]

=== TEST 22: thumbprint() of what is no certificate
--- config
location /t {
    content_by_lua_block {
        local thumbprint = require("resty.keybound").thumbprint
        local file = io.open(ngx.var.arg_pki .. "/client.crt")
        local pem = file:read("*a")
        file:close()
        local function say(...) local t, err = thumbprint(...) ngx.say(t and #t, " ", err) end
        say(pem)
        say(pem .. pem)
        say("x" .. pem)
        say(pem .. "x")
        say((pem:gsub("CERTIFICATE", "X509 CRL")))
        say("")
        say("x")
        say("0")
        say(("0"):rep(20000))
        say(nil)
        say()
        say(1)
        say {}
    }
}
--- request eval
"GET /t?pki=$main::PKI"
--- response_body
43 nil
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: the certificate is too large, or not exactly one
nil keybound.thumbprint: expect a string at #1
nil keybound.thumbprint: expect a string at #1
nil keybound.thumbprint: expect a string at #1
nil keybound.thumbprint: expect a string at #1
--- no_error_log
[error]

=== TEST 23: a configuration that is refused in init_by_lua does not start nginx
--- engine
kb = engine { proof_of_possession_mtls = "maybe" }
--- must_die
--- suppress_stderr
--- error_log
keybound.new: proof_of_possession_mtls: must be strict, optional or off

=== TEST 24: another module declared the function that gives the SSL object, as lua-resty-core does from 0.1.29 on: keybound does not mind
--- engine
require("ffi").cdef "void *ngx_http_lua_ffi_get_req_ssl_pointer(void *r);"
kb = engine({}, { certificate_source = "ssl" })
--- calls
client bound -> 200
thief  bound -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 25: the same with the parameters of later versions
--- engine
require("ffi").cdef "void *ngx_http_lua_ffi_get_req_ssl_pointer(void *r, char **err);"
kb = engine({}, { certificate_source = "ssl" })
--- calls
client bound -> 200
thief  bound -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 26: nor does that module mind when keybound was first
--- engine
kb = engine({}, { certificate_source = "ssl" })
require("ffi").cdef "void *ngx_http_lua_ffi_get_req_ssl_pointer(void *r);"
--- tls
location /other {
    access_by_lua_block { kb:access() }
    content_by_lua_block {
        local r = require("resty.core.base").get_request()
        ngx.say(require("ffi").C.ngx_http_lua_ffi_get_req_ssl_pointer(r) ~= nil and "a pointer" or "none")
    }
}
--- run
is(call(cert => 'client', token => 'bound', path => '/other')->{body}, "a pointer\n", 'the other module calls it');
log_mark();
check(call(cert => 'thief', token => 'bound', path => '/other'), '401 invalid_token certificate_mismatch', 'keybound too');
--- no_error_log
[error]

=== TEST 27: keys of the options that are no names are refused, not an error
--- config
location /t {
    content_by_lua_block {
        for _, opts in ipairs { { "ssl" }, { [true] = 1 }, { [{}] = 1 }, { [1.5] = 1 } } do
            local ok, engine, err = pcall(require("resty.keybound").new, options(), opts)
            ngx.say(tostring(ok), " ", ok and tostring(engine) or engine, " ", ok and err:match("unknown option") or "")
        end
    }
}
--- request
GET /t
--- response_body
true nil unknown option
true nil unknown option
true nil unknown option
true nil unknown option
--- no_error_log
[error]

=== TEST 28: an older lua-nginx-module, without the functions that give pointers: variables instead, and the same answers
--- engine
local ffi = require "ffi"
local C = ffi.C
ffi.C = setmetatable({}, { __index = function(_, name)
    if name:find("^keybound_ngx_") then error("no such symbol") end
    return C[name]
end })
kb = engine()
no_ssl = select(2, require("resty.keybound").new(options(), { certificate_source = "ssl" }))
ffi.C = C
--- config
location /no-ssl { content_by_lua_block { ngx.print(no_ssl) } }
--- calls
client bound      -> 200
thief  bound      -> 401 invalid_token certificate_mismatch
-      bound      -> 401 invalid_token certificate_missing
client -          -> 401 - no_token
client unbound    -> 401 invalid_token token_unbound
client bound path=/?access_token=x -> 400 invalid_request several_tokens
client bound path=/?a=b h2 -> 200
--- run
is(call(plain => 1, path => '/no-ssl')->{body}, 'keybound.new: certificate_source: this nginx does not give its SSL object; use variable', 'ssl is refused');
--- no_error_log
[error]

=== TEST 29: check() says of a configuration what new() would, and which option it is about
--- config
location /t {
    content_by_lua_block {
        local null = require("cjson").null
        local keybound = require "resty.keybound"
        local function say(more)
            local ok, message, option = keybound.check(options(more))
            local engine, err = keybound.new(options(more))
            if (ok == true) ~= (engine ~= nil) or (message and "keybound.new: " .. message) ~= err then
                ngx.say("new() says: ", err)
            end
            ngx.say(tostring(ok), " ", tostring(message), " [", tostring(option), "]")
        end
        say {}
        say { leeway = 61 }
        say { issuer = null }
        say { client_id = "gw", introspection_endpoint = "https://as.test/i" }
        say { issuers_allowed = { "https://o.test", { issuer = "" } } }
        say { issuers_allowed = { "{" } }
        say { client_certificates = { ["a b"] = { certificate = "x" } } }
        say { proof_of_posession_mtls = "off" }
        say { issuers_allowed = { { isuer = "x" } } }
        say { realm = ("x"):rep(600000) }
        say { [print] = 1 }
        ngx.say(keybound.check("[1"))
        ngx.say(keybound.check(7))
        ngx.say(select("#", keybound.check('{"issuer":"a","issuer":"b"}')), " ", tostring(select(3, keybound.check('{"issuer":"a","issuer":"b"}'))))
        ngx.say(keybound.check('{"issuer":"https://as.test","audience_required":["a"]}'))
    }
}
--- request
GET /t
--- response_body
true nil [nil]
nil leeway: must be a whole number from 0 to 60 [leeway]
nil issuer: required: the issuer identifier of the authorization server, as in its tokens' iss [issuer]
nil client_auth: required: configure a certificate (tls_client_auth_cert_id), client_jwk or client_secret; a client that proves nothing is none [client_auth]
nil issuers_allowed[1].issuer: must not be empty [issuers_allowed[1].issuer]
nil issuers_allowed[0]: not valid JSON at line 1 column 1 [issuers_allowed[0]]
nil client_certificates.a b.private_key: required: the path of a PEM file, or PEM [client_certificates.a b.private_key]
nil proof_of_posession_mtls: unknown option; did you mean proof_of_possession_mtls? [nil]
nil issuers_allowed[0].isuer: unknown option; did you mean issuer? [nil]
nil the configuration is larger than 524288 bytes [nil]
nil the configuration is not JSON: Cannot serialise function: table key must be a number or string [nil]
nilthe configuration is not a JSON object: Expected comma or array end but found T_END at character 3
nilexpect a table or a JSON string at #1
3 nil
true
--- no_error_log
[error]
[warn]

=== TEST 30: check() needs no store and reads no file, where new() does
--- config
location /t {
    content_by_lua_block {
        local keybound = require "resty.keybound"
        local more = { store_secret = ("s"):rep(32), client_id = "gw", tls_client_auth_cert_id = "gw", introspection_endpoint = "https://as.test/i",
            token_endpoint = "https://as.test/t", revocation_endpoint = "https://as.test/r",
            client_certificates = { gw = { certificate = "/none.crt", private_key = "/none.key" } } }
        ngx.say(tostring(keybound.check(options(more))))
        ngx.say((select(2, keybound.new(options(more))):match("^[^:]+: [^:]+")))
        more.store_secret = nil
        ngx.say(tostring(keybound.check(options(more))))
        ngx.say((select(2, keybound.new(options(more))):match("/none.crt")))
    }
}
--- request
GET /t
--- response_body
true
keybound.new: store_secret
true
/none.crt
--- no_error_log
[error]

=== TEST 31: check() again and again leaves nothing behind
--- config
location /t {
    content_by_lua_block {
        local keybound = require "resty.keybound"
        local function resident()
            local file = io.open("/proc/self/status")
            local kib = tonumber(file:read("*a"):match("VmRSS:%s*(%d+)"))
            file:close()
            return kib
        end
        local good, bad = require("cjson").encode(options()), require("cjson").encode(options { leeway = 61 })
        collectgarbage("stop")
        for _ = 1, 200 do keybound.check(good) keybound.check(bad) end
        local before = resident()
        -- An engine is some 100 KiB: nothing waits for the collector.
        for _ = 1, 1000 do keybound.check(good) keybound.check(bad) end
        local grown = resident() - before
        collectgarbage("restart")
        ngx.say(grown < 16384 and "little" or grown)
    }
}
--- request
GET /t
--- response_body
little
--- no_error_log
[error]

=== TEST 32: headers for the client need ngx.ctx
--- config
location /t {
    content_by_lua_block {
        local function say(more, opts)
            local engine, err = require("resty.keybound").new(options(more), opts)
            ngx.say(engine and "accepted" or err)
        end
        local downstream = { downstream_headers_claims = { "sub" }, downstream_headers_names = { "X-User" } }
        say(downstream, { ctx = false })
        say(downstream, { ctx = true })
        say(downstream)
        say({ hide_credentials = true, upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }, { ctx = false })
        say({ downstream_headers_names = { "X-User" } }, { ctx = false })
    }
}
--- request
GET /t
--- response_body
keybound.new: ctx: must not be false with downstream_headers_names: header_filter() needs it
accepted
accepted
accepted
keybound.new: downstream_headers_names: must have one name for each entry of downstream_headers_claims
--- no_error_log
[error]

=== TEST 33: what Kong has and keybound has not is refused in words, what it writes otherwise is taken
--- refused
{ issuer = "https://as.test/.well-known/openid-configuration" } => issuer: is the issuer identifier, not the URL of its metadata
{ auth_methods = { "bearer", "userinfo" } } => auth_methods: must be of session, bearer, introspection, refresh_token, password, client_credentials, authorization_code
{ auth_methods = { "bearer", "session" }, session_secret = ("x"):rep(32) } => store: required for logins, sessions and proofs: what all workers must know of them is kept there
{ auth_methods = { "session" } } => auth_methods: session needs another method, which begins sessions
{ client_id = { "a", "b" } } => client_id: an array must have exactly one entry: keybound has one client for each issuer (issuers_allowed has others)
{ groups_required = { "a", "[b" } } => groups_required[1]: not valid JSON at line 1 column 2
{ downstream_headers_claims = { "a" }, downstream_headers_names = { "Content-Length" } } => downstream_headers_names: Content-Length cannot be set from a claim
{ downstream_headers_claims = { "a" }, downstream_headers_names = { "DPoP-Nonce" } } => downstream_headers_names: DPoP-Nonce cannot be set from a claim
{ upstream_headers_claims = { "a" }, upstream_headers_names = { "DPoP" } } => upstream_headers_names: DPoP cannot be set from a claim
{ upstream_headers_claims = { "a" }, upstream_headers_names = { "X-Forwarded-Proto" } } => upstream_headers_names: X-Forwarded-Proto cannot be set from a claim
