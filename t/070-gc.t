# What is collected, when, and what must outlive it.
use Keybound;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: engines that nobody holds are freed
--- tls
location / {
    content_by_lua_block {
        local function resident()
            local file = io.open("/proc/self/statm")
            local pages = tonumber(file:read("*a"):match("^%d+ (%d+)"))
            file:close()
            return pages * 4096
        end
        local new, config = require("resty.keybound").new, options()
        local function make(n)
            for i = 1, n do
                assert(new(config))
                -- To the collector an engine is a pointer: it does not see the memory behind it.
                if i % 10 == 0 then collectgarbage() end
            end
        end
        make(50)
        local before = resident()
        make(1000)
        local grown = resident() - before
        ngx.say(grown < 8 * 2^20 and "freed" or "grown by " .. grown)
        -- Held ones take more than that: the measure works.
        before = resident()
        local held = {}
        for i = 1, 300 do held[i] = assert(new(config)) end
        grown = resident() - before
        ngx.say(grown > 8 * 2^20 and "held" or "grown by " .. grown)
    }
}
--- run
is(call(cert => 'client')->{body}, "freed\nheld\n", 'resident memory');
--- timeout: 20
--- no_error_log
[error]

=== TEST 2: checks that nobody holds are freed
--- engine
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
--- tls
location / {
    content_by_lua_block {
        local function resident()
            local file = io.open("/proc/self/statm")
            local pages = tonumber(file:read("*a"):match("^%d+ (%d+)"))
            file:close()
            return pages * 4096
        end
        local function decide(n, keep)
            for i = 1, n do
                local decision = kb:decide()
                if not decision.allowed or decision.claims.sub ~= "user-1" then ngx.say("wrong") end
                if keep then keep[i] = decision end
                if i % 1000 == 0 then collectgarbage() end
            end
        end
        decide(3000)
        local before = resident()
        decide(30000)
        local grown = resident() - before
        ngx.say(grown < 4 * 2^20 and "freed" or "grown by " .. grown)
    }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "freed\n", 'resident memory');
--- timeout: 20
--- no_error_log
[error]

=== TEST 3: what is remembered of a connection is freed with it
--- init
self_signed('large', '/CN=large', names => 400);
--- config
location = /resident {
    content_by_lua_block {
        local file = io.open("/proc/self/statm")
        ngx.print(tonumber(file:read("*a"):match("^%d+ (%d+)")) * 4096)
        file:close()
    }
}
--- run
sub resident { return call(plain => 1, path => '/resident')->{body} }
is(json([at_once(50, { cert => 'large', token => 'for:large' })]), '[{"200":50}]', 'to begin with');
my $before = resident();
is(json([at_once(250, { cert => 'large', token => 'for:large' })]), '[{"200":250}]', 'all pass');
my $grown = resident() - $before;
# A certificate of 400 names takes more than 50 KB of memory.
cmp_ok($grown, '<', 3e6, 'resident memory');
--- no_error_log
[error]

=== TEST 4: a full collection in every phase of every request
--- tls
location / {
    access_by_lua_block { collectgarbage() kb:access() collectgarbage() collectgarbage() }
    content_by_lua_block { collectgarbage() ngx.say(ngx.ctx.keybound.claims.sub) collectgarbage() }
    log_by_lua_block { collectgarbage() local _ = ngx.ctx.keybound.claims collectgarbage() }
}
--- calls
client bound -> 200
thief  bound -> 401 invalid_token certificate_mismatch
client bound -> 200
-      bound -> 401 invalid_token certificate_missing
client -     -> 401 - no_token
client bound h2 -> 200
--- no_error_log
[error]
[alert]

=== TEST 5: claims that are first asked for in the log phase, after collections
--- tls
location / {
    access_by_lua_block { kb:access() }
    content_by_lua_block { collectgarbage() ngx.say("passed") }
    log_by_lua_block { collectgarbage() collectgarbage() ngx.log(ngx.NOTICE, "seen: ", ngx.ctx.keybound.claims.sub) }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "passed\n", 'passes');
--- grep_error_log eval: qr/seen: [\w-]+/
--- grep_error_log_out
seen: user-1
--- no_error_log
[error]

=== TEST 6: a decision outlives its engine
--- engine
--- tls
location / {
    content_by_lua_block {
        local kb = engine()
        local allowed = kb:decide()
        ngx.req.set_header("Authorization", "Bearer junk")
        local refused = kb:decide()
        kb = nil
        for _ = 1, 4 do collectgarbage() end
        -- Other engines take the memory that was freed.
        for _ = 1, 20 do engine() end
        ngx.say(allowed.claims.sub, " ", refused.reason, " ", refused.status, " ", refused.www_authenticate, " ", refused.body)
    }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "user-1 token_not_jwt 401 Bearer error=\"invalid_token\" {\"message\":\"Unauthorized\"}\n", 'both');
--- no_error_log
[error]
[alert]

=== TEST 7: the module is unloaded and loaded again: the new one decides
--- tls
location /reload {
    content_by_lua_block {
        kb = nil
        for name in pairs(package.loaded) do
            if name:find("^resty%.keybound") then package.loaded[name] = nil end
        end
        for _ = 1, 4 do collectgarbage() end
        kb = engine()
        ngx.say("reloaded")
    }
}
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } }
--- run
for my $round (1 .. 5) {
    for (['client', '200'], ['thief', '401 invalid_token certificate_mismatch'], ['-', '401 invalid_token certificate_missing']) {
        log_mark();
        check(call(cert => $_->[0], token => 'bound'), $_->[1], "round $round: $_->[0]");
    }
    is(call(cert => 'client', path => '/reload')->{body}, "reloaded\n", 'reloaded');
}
--- no_error_log
[error]
[alert]

=== TEST 8: an engine of the unloaded module still decides, and so does a new one beside it
--- engine
old = engine()
for name in pairs(package.loaded) do
    if name:find("^resty%.keybound") then package.loaded[name] = nil end
end
for _ = 1, 4 do collectgarbage() end
kb = engine()
--- tls
location /old { access_by_lua_block { collectgarbage() old:access() } content_by_lua_block { ngx.say(ngx.ctx.keybound.claims.sub) } }
--- calls
client bound           -> 200
client bound path=/old -> 200
thief  bound path=/old -> 401 invalid_token certificate_mismatch
thief  bound           -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]
[alert]

=== TEST 9: connections that were decided outlive the module: they close without harm
--- tls
location /unload {
    access_by_lua_block { kb:access() }
    content_by_lua_block {
        kb = nil
        for name in pairs(package.loaded) do
            if name:find("^resty%.keybound") then package.loaded[name] = nil end
        end
        for _ = 1, 4 do collectgarbage() end
        ngx.say("unloaded")
    }
}
location /unloaded { content_by_lua_block { ngx.say(tostring(package.loaded["resty.keybound"])) } }
location /load { content_by_lua_block { kb = engine() ngx.say("loaded") } }
--- run
for my $round (1 .. 3) {
    my @responses = calls_on_one_connection(map { { cert => 'client', token => 'bound', path => $_ } } '/', '/unload', '/unloaded', '/load', '/');
    is(join('|', map { $_->{status} . ($_->{body} =~ s/\n//r) } @responses), '200passed|200unloaded|200nil|200loaded|200passed', 'one connection');
    log_mark();
    check(call(cert => 'thief', token => 'bound'), '401 invalid_token certificate_mismatch', 'and the next one');
}
--- no_error_log
[error]
[alert]

=== TEST 10: a Lua machine for each request (lua_code_cache off): it ends with engines and decisions in it
--- http_config
lua_code_cache off;
--- calls
client bound -> 200
thief  bound -> 401 invalid_token certificate_mismatch
client bound -> 200
-      bound -> 401 invalid_token certificate_missing
client bound h2 -> 200
client unbound -> 401 invalid_token token_unbound
--- suppress_stderr
--- error_log
[alert]
lua_code_cache is off
--- no_error_log
[error]
exited on signal
