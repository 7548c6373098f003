# What an allowed request carries on: headers for the upstream and for the client, the decision for the application.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# The API behind the gateway: a real server that shows the request as it came.
my $API = <<'EOC';
server {
    listen $UPSTREAM;
    location / { content_by_lua_block { ngx.print(ngx.req.raw_header()) } }
    location /named { add_header X-User upstream; add_header X-Email upstream; return 200 "named"; }
}
EOC
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(servers => ($block->servers // '') . $API) if join('', map { $_ // '' } $block->tls, $block->tls_only, $block->config) =~ /\$UPSTREAM/;
});

# The headers of these names that the client got, as "name: value|..."
sub got {
    my ($response, @names) = @_;
    return join '|', map { my $name = $_; map { "$name: $_" } header($response, $name) } @names;
}

# The headers that the API saw, by pattern: "name: value" lines in lower case names, sorted.
sub seen {
    my ($response, $pattern) = @_;
    return join "|", sort map { /^([^:]+):\s*(.*)$/ ? lc($1) . ": $2" : $_ } grep { /^(?:$pattern):/i } split /\r?\n/, $response->{body};
}

run_tests();

__DATA__

=== TEST 1: claims go upstream as headers
--- engine
kb = engine {
    upstream_headers_claims = { "sub", "client_id", "level", "admin", "act", { "realm_access", "roles" }, "ratio" },
    upstream_headers_names = { "X-User", "X-Client", "X-Level", "X-Admin", "X-Act", "X-Roles", "X-Ratio" },
}
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- tokens eval
+{ rich => { for => 'client', claims => { sub => 'user 1', level => 7, admin => JSON::PP::true, act => { sub => 'x' },
   realm_access => { roles => ['a', 'b'] }, ratio => 0.5 } } }
--- run
my $response = call(cert => 'client', token => 'rich');
is($response->{status}, 200, 'passes');
is(seen($response, 'x-.*'), 'x-act: {"sub":"x"}|x-admin: true|x-client: client-1|x-level: 7|x-ratio: 0.5|x-roles: ["a","b"]|x-user: user 1', 'as they are');
like($response->{body}, qr/^GET \/ HTTP\/1.0\r\n/, 'by the proxy');
like($response->{body}, qr/^Authorization: Bearer \Q@{[ named_token('rich') ]}\E\r$/m, 'the token goes on');
--- no_error_log
[error]

=== TEST 2: a claim that is missing, null or empty is no header
--- engine
kb = engine { upstream_headers_claims = { "sub", "a", "b", "c", { "d", "e" }, "f" }, upstream_headers_names = { "X-User", "X-A", "X-B", "X-C", "X-E", "X-F" } }
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- tokens eval
+{ poor => { for => 'client', claims => { b => undef, c => '', d => 'no object', f => 'there' } } }
--- run
is(seen(call(cert => 'client', token => 'poor'), 'x-.*'), 'x-f: there|x-user: user-1', 'the rest');
--- no_error_log
[error]

=== TEST 3: a claim with control characters is not sent
--- engine
kb = engine { upstream_headers_claims = { "sub", "a", "b", "c", "d", "e", "f" }, upstream_headers_names = { "X-User", "X-A", "X-B", "X-C", "X-D", "X-E", "X-F" } }
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- tokens eval
+{ evil => { for => 'client', claims => { a => "x\r\nX-Admin: 1", b => "x\nX-Admin: 1", c => "x\rX-Admin: 1", d => "a\x1fb", e => "a\tb", f => "a\x7fb" } },
   good => { for => 'client', claims => { a => 'x X-Admin: 1', b => '\\r\\nX-Admin: 1', c => 'c', d => 'd', e => 'e', f => 'f' } } }
--- run
is(seen(call(cert => 'client', token => 'evil'), 'x-.*'), 'x-user: user-1', 'none of them');
is(seen(call(cert => 'client', token => 'good'), 'x-.*'), 'x-a: x X-Admin: 1|x-b: \\r\\nX-Admin: 1|x-c: c|x-d: d|x-e: e|x-f: f|x-user: user-1', 'what holds none');
--- no_error_log
[error]

=== TEST 4: text that is not ASCII goes as its octets
--- engine
kb = engine { upstream_headers_claims = { "name", "list" }, upstream_headers_names = { "X-Name", "X-List" } }
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- tokens eval
+{ named => { for => 'client', claims => { name => "\x{17d}lu\x{165}", list => ["\x{e9}\n"] } } }
--- run
is(seen(call(cert => 'client', token => 'named'), 'x-.*'), "x-list: [\"\xc3\xa9\\n\"]|x-name: \xc5\xbdlu\xc5\xa5", 'UTF-8, and a line end escaped in JSON');
--- no_error_log
[error]

=== TEST 5: what the client sends under these names never arrives: allowed, with the claim and without it
--- engine
kb = engine { upstream_headers_claims = { "sub", "email" }, upstream_headers_names = { "X-User", "X-Email" } }
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- run
my @spoofed = ('X-User: root', 'x-user: root', 'X-USER: root', 'X-Email: root@x', 'x-eMail: root@x', 'X-Other: stays',
    # nginx drops these: names with an underscore, which a CGI-like upstream would take for the same
    'X_User: root', 'X_Email: root@x');
for my $h2 (0, 1) {
    for my $method (qw(GET POST OPTIONS DELETE)) {
        is(seen(call(cert => 'client', token => 'bound', headers => \@spoofed, h2 => $h2, method => $method), 'x-.*'), 'x-other: stays|x-user: user-1', $method);
    }
}
--- no_error_log
[error]

=== TEST 6: nor does the client take away what is sent
--- engine
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- run
for my $header ('Connection: X-User', 'Connection: close, x-user', 'Keep-Alive: X-User', 'Proxy-Connection: X-User', 'TE: trailers', 'Trailer: X-User') {
    is(seen(call(cert => 'client', token => 'bound', headers => [$header]), 'x-.*'), 'x-user: user-1', $header);
}
--- no_error_log
[error]

=== TEST 7: nor over plain HTTP, in optional mode without a binding
--- engine
kb = engine { upstream_headers_claims = { "sub", "email" }, upstream_headers_names = { "X-User", "X-Email" }, proof_of_possession_mtls = "optional" }
--- config
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- run
is(seen(call(plain => 1, token => 'unbound', headers => ['X-User: root', 'X-Email: root@x']), 'x-.*'), 'x-user: user-1', 'from the token');
--- no_error_log
[error]

=== TEST 8: nor where the application lets refused requests through by itself
--- engine
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
--- tls
location / {
    access_by_lua_block {
        -- As an application might: whoever is refused is a guest.
        if ngx.var.http_authorization then return kb:access() end
        for _, name in ipairs(kb.headers) do ngx.req.clear_header(name) end
    }
    proxy_pass http://$UPSTREAM;
}
--- run
is(seen(call(cert => 'client', headers => ['X-User: root']), 'x-.*'), '', 'a guest is nobody');
is(seen(call(cert => 'client', token => 'bound', headers => ['X-User: root']), 'x-.*'), 'x-user: user-1', 'with a token somebody');
--- no_error_log
[error]

=== TEST 9: nor on the way of a certificate that nginx refused
--- engine
kb = engine { upstream_headers_claims = { "sub", "email" }, upstream_headers_names = { "X-User", "X-Email" } }
--- tls
error_page 495 496 = @certificate;
location @certificate { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- run
my $response = call(cert => 'expired', token => 'for:expired', headers => ['X-User: root', 'X-Email: root@x'], method => 'POST', data => 'a=b', path => '/x?y=1');
is(seen($response, 'x-.*'), 'x-user: user-1', 'from the token');
like($response->{body}, qr{^POST /x\?y=1 HTTP}, 'method and URI are kept');
is(seen($response, 'content-length'), 'content-length: 3', 'and the body');
--- no_error_log
[error]

=== TEST 10: refused requests do not arrive at all
--- engine
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- servers
log_format seen "$request";
--- calls
client bound path=/passes                         -> 200
thief  bound path=/stolen                         -> 401 invalid_token certificate_mismatch
thief  bound path=/stolen-post method=POST data=x -> 401 invalid_token certificate_mismatch
-      -     path=/nobody                         -> 401 - no_token
--- access_log eval
[qr{"GET /passes HTTP/1.0" 200}]
--- no_access_log eval
[qr{/stolen\S* HTTP/1.0}, qr{/nobody HTTP/1.0}]
--- no_error_log
[error]

=== TEST 11: ngx.ctx.keybound of an allowed request
--- tls
location / {
    access_by_lua_block { kb:access() }
    content_by_lua_block {
        local decision = ngx.ctx.keybound
        local claims = decision.claims
        ngx.say(tostring(decision.allowed), " ", decision.reason, " ", claims.sub, " ", claims.iss, " ", #claims.cnf["x5t#S256"])
        ngx.say(tostring(decision.claims == claims), " ", tostring(decision.status), " ", tostring(decision.nothing))
    }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "true allowed user-1 https://as.test 43\ntrue nil nil\n", 'decision and claims');
--- no_error_log
[error]

=== TEST 12: ngx.ctx.keybound of a refused request: for the log, without claims
--- tls
location / {
    access_by_lua_block { kb:access() }
    content_by_lua_block { ngx.say("passed") }
    log_by_lua_block {
        local decision = ngx.ctx.keybound
        ngx.log(ngx.NOTICE, "seen: ", tostring(decision.allowed), " ", decision.reason, " ", type(decision.claims))
    }
}
--- run
call(cert => 'client', token => 'bound');
call(cert => 'thief', token => 'bound');
call(cert => 'client');
--- grep_error_log eval: qr/seen: \w+ \w+ \w+/
--- grep_error_log_out
seen: true allowed table
seen: false certificate_mismatch nil
seen: false no_token nil
--- no_error_log
[error]

=== TEST 13: claims are those of the token, whatever they hold
--- tls
location / {
    access_by_lua_block { kb:access() }
    content_by_lua_block {
        local cjson = require "cjson"
        local claims = ngx.ctx.keybound.claims
        ngx.say(claims.text, "|", tostring(claims.yes), "|", tostring(claims.nothing == cjson.null), "|", claims.big, "|", claims.deep.er[2].est)
    }
}
--- tokens eval
+{ rich => { for => 'client', claims => { text => "a\r\n\"b\"", yes => JSON::PP::true, nothing => undef, big => 9007199254740991, deep => { er => [1, { est => 'x' }] } } } }
--- run
is(call(cert => 'client', token => 'rich')->{body}, "a\r\n\"b\"|true|true|9.007199254741e+15|x\n", 'as they are');
is(call(cert => 'thief', token => 'rich')->{status}, 401, 'the thief sees nothing');
--- no_error_log
[error]

=== TEST 14: claims are those of this request, not of the one before
--- tls
location / {
    access_by_lua_block { kb:access() }
    content_by_lua_block { ngx.say(ngx.ctx.keybound.claims.sub, " ", ngx.ctx.keybound.claims.jti) }
}
--- tokens eval
+{ a => { for => 'client', claims => { sub => 'a', jti => '1' } }, b => { for => 'client', claims => { sub => 'b', jti => '2' } },
   long => { for => 'client', claims => { sub => 'x' x 300, jti => '3' } } }
--- run
my %expected = (a => 'a 1', b => 'b 2', long => 'x' x 300 . ' 3');
is(call(cert => 'client', token => $_)->{body}, "$expected{$_}\n", $_) for qw(a b a long b a);
is(join('', map { $_->{body} } calls_on_one_connection(map { { cert => 'client', token => $_, h2 => 1 } } qw(long a b))),
    "$expected{long}\n$expected{a}\n$expected{b}\n", 'on one connection');
--- no_error_log
[error]

=== TEST 15: ctx = false: nothing is left in ngx.ctx, headers are sent all the same
--- engine
kb = engine({ upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }, { ctx = false })
plain = engine({}, { ctx = false })
--- tls
location /upstream { access_by_lua_block { kb:access() ngx.req.set_header("X-Ctx", tostring(ngx.ctx.keybound)) } proxy_pass http://$UPSTREAM; }
location / {
    access_by_lua_block { plain:access() }
    content_by_lua_block { ngx.print("content ", tostring(ngx.ctx.keybound)) }
    log_by_lua_block { ngx.log(ngx.NOTICE, "seen: ", tostring(ngx.ctx.keybound)) }
}
--- run
is(seen(call(cert => 'client', token => 'bound', path => '/upstream', headers => ['X-User: root']), 'x-.*'), 'x-ctx: nil|x-user: user-1', 'header');
is(call(cert => 'client', token => 'bound')->{body}, 'content nil', 'allowed');
is(call(cert => 'thief', token => 'bound')->{status}, 401, 'refused');
--- grep_error_log eval: qr/seen: \w+/
--- grep_error_log_out
seen: nil
seen: nil
--- no_error_log
[error]

=== TEST 16: decide() does not act: it says what it would do
--- engine
kb = engine { upstream_headers_claims = { "sub", "email" }, upstream_headers_names = { "X-User", "X-Email" } }
--- tls
location / {
    content_by_lua_block {
        local cjson = require "cjson"
        local decision = kb:decide()
        ngx.say(tostring(decision.allowed), " ", decision.reason, " ", tostring(decision.status), " ", tostring(decision.www_authenticate), " ",
            tostring(decision.content_type), " ", tostring(decision.body))
        ngx.say(decision.claims and decision.claims.sub, " ", decision.headers and cjson.encode({ decision.headers["X-User"], decision.headers["X-Email"] }))
        ngx.say(tostring(ngx.ctx.keybound), " ", ngx.req.get_headers()["X-User"])
    }
}
--- run
my @spoofed = (headers => ['X-User: root']);
is(call(cert => 'client', token => 'bound', @spoofed)->{body}, <<'EOT', 'allowed');
true allowed nil nil nil nil
user-1 ["user-1",false]
nil root
EOT
log_mark();
is(call(cert => 'thief', token => 'bound', @spoofed)->{body}, <<'EOT', 'refused');
false certificate_mismatch 401 Bearer error="invalid_token" application/json; charset=utf-8 {"message":"Unauthorized"}
nil nil
nil root
EOT
is(call(cert => 'client', @spoofed)->{body}, <<'EOT', 'no token');
false no_token 401 Bearer application/json; charset=utf-8 {"message":"Unauthorized"}
nil nil
nil root
EOT
is(join(' ', reasons()), '', 'nothing is logged');
--- no_error_log
[error]

=== TEST 17: decide() gives the claims whatever the option ctx says
--- engine
kb = engine({}, { ctx = false })
--- tls
location / { content_by_lua_block { local d = kb:decide() ngx.say(tostring(d.allowed), " ", d.claims and d.claims.sub) } }
--- run
is(call(cert => 'client', token => 'bound')->{body}, "true user-1\n", 'allowed');
is(call(cert => 'thief', token => 'bound')->{body}, "false nil\n", 'refused');
--- no_error_log
[error]

=== TEST 18: decisions stay their own when others are made meanwhile
--- tls
location / {
    content_by_lua_block {
        local first = kb:decide()
        ngx.req.set_header("Authorization", "Bearer junk")
        local second = kb:decide()
        ngx.req.clear_header("Authorization")
        local third = kb:decide()
        collectgarbage()
        collectgarbage()
        ngx.say(first.reason, " ", first.claims.sub, " ", second.reason, " ", second.body, " ", third.reason)
    }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "allowed user-1 token_not_jwt {\"message\":\"Unauthorized\"} no_token\n", 'three');
--- no_error_log
[error]

=== TEST 19: two engines in one request: both must allow, and each sends its headers
--- engine
first = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" }, proof_of_possession_mtls = "optional" }
second = engine { upstream_headers_claims = { "client_id" }, upstream_headers_names = { "X-Client" } }
--- tls
location / {
    access_by_lua_block { first:access() second:access() }
    proxy_pass http://$UPSTREAM;
}
--- run
my @spoofed = (headers => ['X-User: root', 'X-Client: root']);
is(seen(call(cert => 'client', token => 'bound', @spoofed), 'x-.*'), 'x-client: client-1|x-user: user-1', 'both');
log_mark();
check(call(cert => 'client', token => 'unbound', @spoofed), '401 invalid_token token_unbound', 'the second one refuses');
log_mark();
check(call(cert => 'thief', token => 'bound', @spoofed), '401 invalid_token certificate_mismatch', 'the first one refuses, once');
--- no_error_log
[error]

=== TEST 20: subrequests of an allowed request run, those of a refused one do not
--- tls
location = /sub { internal; content_by_lua_block { ngx.print("sub ", tostring(ngx.ctx.keybound)) } }
location / {
    access_by_lua_block {
        kb:access()
        local res = ngx.location.capture("/sub")
        ngx.ctx.sub = res.body
    }
    content_by_lua_block { ngx.say(ngx.ctx.sub, " of ", ngx.ctx.keybound.claims.sub) }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "sub nil of user-1\n", 'allowed');
log_mark();
check(call(cert => 'thief', token => 'bound'), '401 invalid_token certificate_mismatch', 'refused');
--- no_error_log
[error]

=== TEST 21: decide() in a subrequest sees the certificate and the token of the request
--- tls
location = /auth {
    internal;
    content_by_lua_block {
        local decision = kb:decide()
        ngx.exit(decision.allowed and 204 or decision.status)
    }
}
location / {
    auth_request /auth;
    content_by_lua_block { ngx.say("passed") }
}
--- run
is(call(cert => 'client', token => 'bound')->{status}, 200, 'own certificate');
is(call(cert => 'thief', token => 'bound')->{status}, 401, 'another one');
is(call(token => 'bound')->{status}, 401, 'none');
is(call(cert => 'client')->{status}, 401, 'no token');
is(call(cert => 'client', token => 'bound', h2 => 1)->{status}, 200, 'own certificate, HTTP/2');
is(call(cert => 'thief', token => 'bound', h2 => 1)->{status}, 401, 'another one, HTTP/2');
--- no_error_log
[error]

=== TEST 22: after an internal redirect the location there decides, with the same certificate
--- tls
location /public {
    content_by_lua_block { return ngx.exec("/private" .. ngx.var.uri) }
}
location /private {
    access_by_lua_block { kb:access() }
    content_by_lua_block { ngx.say("passed ", ngx.ctx.keybound.claims.sub) }
}
--- calls
client bound path=/public -> 200
thief  bound path=/public -> 401 invalid_token certificate_mismatch
-      bound path=/public -> 401 invalid_token certificate_missing
--- no_error_log
[error]

=== TEST 23: a query that nginx rewrites is read as it is then
--- tls
location /rewritten { rewrite ^ /?access_token=x? last; }
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
client bound path=/x         -> 200
client bound path=/rewritten -> 400 invalid_request several_tokens
--- no_error_log
[error]

=== TEST 24: upstream headers with many claims, again and again: a hot token sends what a cold one does
--- engine
kb = engine { upstream_headers_claims = { "sub", "client_id", "scope", "jti" }, upstream_headers_names = { "X-A", "X-B", "X-C", "X-D" } }
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- tokens eval
+{ a => { for => 'client', claims => { jti => 'a', sub => 'a' } }, b => { for => 'client', claims => { jti => 'b', sub => 'b' } } }
--- run
for my $round (1 .. 5) {
    for my $name (qw(a b)) {
        is(seen(call(cert => 'client', token => $name), 'x-.*'), "x-a: $name|x-b: client-1|x-c: read|x-d: $name", "round $round");
    }
}
--- no_error_log
[error]

=== TEST 25: access() once for a server guards each of its locations that has no access_by_lua of its own
--- tls_only
ssl_verify_client optional_no_ca;
access_by_lua_block { kb:access() }
location / { content_by_lua_block { ngx.say("passed") } }
location /proxied { proxy_pass http://$UPSTREAM; }
location /files { alias $PKI/; }
location /own { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
location /capture { content_by_lua_block { ngx.print(ngx.location.capture("/proxied").body) } }
--- calls
client bound path=/                 -> 200
thief  bound path=/                 -> 401 invalid_token certificate_mismatch
client bound path=/proxied          -> 200
thief  bound path=/proxied          -> 401 invalid_token certificate_mismatch
client bound path=/files/client.crt -> 200
thief  bound path=/files/client.crt -> 401 invalid_token certificate_mismatch
client bound path=/files/none       -> 404 nginx
thief  bound path=/files/none       -> 401 invalid_token certificate_mismatch
client bound path=/own              -> 200
thief  bound path=/own              -> 401 invalid_token certificate_mismatch
client bound path=/capture          -> 200
thief  bound path=/capture          -> 401 invalid_token certificate_mismatch
--- no_error_log
[crit]
[alert]

=== TEST 26: what does not pass through access(), as docs/operation.md says
--- tls_only
ssl_verify_client optional_no_ca;
access_by_lua_block { kb:access() }
location / { content_by_lua_block { ngx.say("passed") } }
location /own { access_by_lua_block { } content_by_lua_block { ngx.say("passed") } }
location /any { satisfy any; allow all; content_by_lua_block { ngx.say("passed") } }
location /return { return 200 "passed"; }
location /open { access_by_lua_block { } content_by_lua_block { ngx.print(ngx.location.capture("/").body) } }
location /all { satisfy all; allow all; content_by_lua_block { ngx.say("passed") } }
--- calls
- - path=/       -> 401 - no_token
- - path=/own    -> 200
- - path=/any    -> 200
- - path=/return -> 200
- - path=/open   -> 200
- - path=/all    -> 401 - no_token
--- no_error_log
[error]

=== TEST 27: hide_credentials: the upstream of an allowed request gets no token
--- engine
kb = engine { hide_credentials = true, upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
shown = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
alone = engine({ hide_credentials = true }, { ctx = false })
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
location /shown { access_by_lua_block { shown:access() } proxy_pass http://$UPSTREAM; }
location /alone { access_by_lua_block { alone:access() } proxy_pass http://$UPSTREAM; }
--- run
my $token = named_token('bound');
for my $h2 (0, 1) {
    for my $round (1, 2) {
        my %call = (cert => 'client', token => 'bound', h2 => $h2, headers => ['X-User: root', 'X-Other: stays']);
        my $hidden = call(%call);
        is(seen($hidden, 'x-.*|authorization'), 'x-other: stays|x-user: user-1', 'hidden');
        unlike($hidden->{body}, qr/\Q$token\E/, 'nowhere');
        is(seen(call(%call, path => '/shown'), 'authorization'), "authorization: Bearer $token", 'without the option it goes on');
        is(seen(call(%call, path => '/alone'), 'x-.*|authorization'), 'x-other: stays|x-user: root', 'with ctx = false and no other header');
    }
}
log_mark();
check(call(cert => 'thief', token => 'bound'), '401 invalid_token certificate_mismatch', 'the token was read before');
--- no_error_log
[error]

=== TEST 28: hide_credentials: a header that decide() names, and that is not among those to be removed before
--- engine
kb = engine { hide_credentials = true, upstream_headers_claims = { "email" }, upstream_headers_names = { "X-Email" } }
plain = engine {}
--- tls
location / {
    content_by_lua_block {
        local cjson = require "cjson"
        ngx.say(cjson.encode(kb.headers), " ", tostring(kb:decide().headers.authorization), " ", tostring(plain:decide().headers.authorization))
    }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "[\"X-Email\"] false nil\n", 'false: to be removed');
--- no_error_log
[error]

=== TEST 29: claims go to the client as headers, in place of the upstream's where the token has them
--- engine
kb = engine { downstream_headers_claims = { "sub", "email", { "act", "sub" } }, downstream_headers_names = { "X-User", "X-Email", "X-Actor" } }
plain = engine {}
--- tls
location / { access_by_lua_block { kb:access() } header_filter_by_lua_block { kb:header_filter() } proxy_pass http://$UPSTREAM; }
location /own { access_by_lua_block { kb:access() } header_filter_by_lua_block { kb:header_filter() } content_by_lua_block { ngx.say("own") } }
location /unfiltered { rewrite ^ /named break; access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
location /plain { rewrite ^ /named break; access_by_lua_block { plain:access() } header_filter_by_lua_block { plain:header_filter() } proxy_pass http://$UPSTREAM; }
--- tokens eval
+{ rich => { for => 'client', claims => { email => 'a@b', act => { sub => 'x' } } }, evil => { for => 'client', claims => { sub => "x\r\nX-Admin: 1", email => "y\n" } } }
--- run
my @names = qw(X-User X-Email X-Actor X-Admin);
for my $h2 (0, 1) {
    for my $round (1, 2) {
        for (['rich', '/named', 'X-User: user-1|X-Email: a@b|X-Actor: x'], ['bound', '/named', 'X-User: user-1|X-Email: upstream'],
             ['evil', '/named', 'X-User: upstream|X-Email: upstream'], ['rich', '/own', 'X-User: user-1|X-Email: a@b|X-Actor: x'],
             ['evil', '/own', ''], ['rich', '/unfiltered', 'X-User: upstream|X-Email: upstream'],
             ['rich', '/plain', 'X-User: upstream|X-Email: upstream']) {
            my ($token, $path, $expected) = @$_;
            my $response = call(cert => 'client', token => $token, path => $path, h2 => $h2);
            is($response->{status}, 200, "$path: $token passes");
            is(got($response, @names), $expected, "$path: $token");
        }
    }
}
is(seen(call(cert => 'client', token => 'rich'), 'x-.*'), '', 'the upstream gets none of them');
for my $path (qw(/named /own)) {
    my $refused = call(cert => 'thief', token => 'rich', path => $path);
    is($refused->{status}, 401, "$path: refused");
    is(got($refused, @names), '', "$path: nothing of the token is told to the thief");
}
--- no_error_log
[error]

=== TEST 30: response headers are those of this request, and stay in ngx.ctx until the filter
--- engine
kb = engine { downstream_headers_claims = { "jti" }, downstream_headers_names = { "X-Jti" } }
--- tls
location / {
    access_by_lua_block { kb:access() }
    header_filter_by_lua_block { kb:header_filter() }
    content_by_lua_block { ngx.say(ngx.ctx.keybound.response_headers["X-Jti"], " ", ngx.ctx.keybound.claims.jti) }
}
--- tokens eval
+{ a => { for => 'client', claims => { jti => 'a' } }, b => { for => 'client', claims => { jti => 'b' } } }
--- run
for my $response (calls_on_one_connection(map { { cert => 'client', token => $_, h2 => 1 } } qw(a b a))) {
    my ($seen) = $response->{body} =~ /^(\w) \1$/;
    is(got($response, 'X-Jti'), "X-Jti: $seen", "of $seen");
}
is(join(' ', map { call(cert => 'client', token => $_)->{body} } qw(b a)), "b b\n a a\n", 'each its own');
--- no_error_log
[error]

=== TEST 31: decide() gives the response headers, and none where there are none
--- engine
kb = engine({ downstream_headers_claims = { "sub", "email" }, downstream_headers_names = { "X-User", "X-Email" } })
plain = engine({}, { ctx = false })
--- tls
location / {
    content_by_lua_block {
        local cjson = require "cjson"
        local decision = kb:decide()
        ngx.say(cjson.encode(decision.response_headers), " ", cjson.encode(plain:decide().response_headers), " ", tostring(ngx.header["X-User"]))
    }
}
--- run
is(call(cert => 'client', token => 'bound')->{body}, "{\"X-User\":\"user-1\"} {} nil\n", 'allowed');
is(call(cert => 'thief', token => 'bound')->{body}, "{} {} nil\n", 'refused');
--- no_error_log
[error]

=== TEST 32: a refusal says whether possession was not proved
--- tls
location / {
    content_by_lua_block {
        local decision = kb:decide()
        ngx.say(decision.reason, " ", tostring(decision.binding))
    }
}
--- run
for (['client', 'bound', 'allowed nil'], ['thief', 'bound', 'certificate_mismatch true'], ['-', 'bound', 'certificate_missing true'],
     ['client', 'unbound', 'token_unbound true'], ['client', '-', 'no_token false'], ['client', 'expired', 'token_expired false']) {
    my ($cert, $token, $expected) = @$_;
    is(call(cert => $cert, token => $token)->{body}, "$expected\n", $expected);
}
--- no_error_log
[error]

=== TEST 33: what an application takes for a header of ours is removed, too, where nginx lets it in
--- engine
kb = engine { upstream_headers_claims = { "sub", "a", "b", "c" }, upstream_headers_names = { "X-User-Name", "X-Absent-Name", "User-Agent", "X-Forwarded-For" } }
--- tls
underscores_in_headers on;
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- run
for my $http2 (0, 1) {
    my @sent = map { my $name = $_; map { "$_: evil" } $name, $name =~ tr/-/_/r, $name =~ s/-/_/r, $name =~ s/.*\K-/_/r } 'X-User-Name', 'x-aBSENT-nAME', 'User-Agent', 'X-Forwarded-For';
    is(seen(call(cert => 'client', token => 'bound', h2 => $http2, headers => [@sent, 'X_Other: stays']), 'x[-_].*|user.*'), 'x-user-name: user-1|x_other: stays', "HTTP/" . (1 + $http2));
}
--- no_error_log
[error]

=== TEST 34: names of headers that clients send are not remembered
--- engine
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
--- tls
underscores_in_headers on;
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
location = /memory { content_by_lua_block { collectgarbage() collectgarbage() ngx.print(collectgarbage("count")) } }
--- run
my $n = 0;
my $fill = sub { call(cert => 'client', token => 'bound', headers => ['X_User: evil', map { "X-Name-" . ++$n . ": 1" } 1 .. 200]) for 1 .. 30 };
$fill->();
my $before = call(path => '/memory')->{body};
$fill->() for 1, 2;
cmp_ok(call(path => '/memory')->{body} - $before, '<', 100, 'KiB, of 12000 names');
--- no_error_log
[error]
