# report_only: what would be refused passes, and is logged and counted.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# Where nobody listens.
our ($gone_port) = Keybound::_free_ports(1);

my $API = <<'EOC';
server {
    listen $UPSTREAM;
    location / { add_header X-User upstream; content_by_lua_block { ngx.print(ngx.req.raw_header()) } }
}
EOC
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => ($block->engine // 'kb = engine { report_only = true }') =~ s/GONE_PORT/$gone_port/gr);
    $block->set_value(servers => ($block->servers // '') . $API) if ($block->tls // '') =~ /\$UPSTREAM/;
});

# What was only reported since the last mark; what was refused is told, too.
sub reported { return join ' ', (map { /keybound: reported, reason=(\w+), token=(?:[0-9a-f]{8}|-), request_id=[0-9a-f]{32}/ ? $1 : () } split /\n/, log_since()), reasons() }

sub seen {
    my ($response, $pattern) = @_;
    return join "|", sort map { /^([^:]+):\s*(.*)$/ ? lc($1) . ": $2" : $_ } grep { /^(?:$pattern):/i } split /\r?\n/, $response->{body};
}

# The call passes, and this is what the log says of it.
sub passes {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(%$call);
    is($response->{status}, 200, "$name: passes");
    is(reported(), $expected, "$name: " . ($expected || 'nothing is logged'));
    return $response;
}

run_tests();

__DATA__

=== TEST 1: what would be refused passes, and the log says what it would be refused for
--- engine
kb = engine { report_only = true, scopes_required = { "read" } }
refusing = engine { scopes_required = { "read" } }
--- tls
location /refusing { access_by_lua_block { refusing:access() } content_by_lua_block { ngx.say("passed") } }
--- tokens eval
+{ poor => { for => 'client', claims => { scope => 'other' } } }
--- run
for my $h2 (0, 1) {
    for my $round (1, 2) {
        for (['client', 'bound', '', '200'], ['thief', 'bound', 'certificate_mismatch', '401 invalid_token'], ['-', 'bound', 'certificate_missing', '401 invalid_token'],
             ['client', 'unbound', 'token_unbound', '401 invalid_token'], ['client', 'forged', 'signature_invalid', '401 invalid_token'],
             ['client', 'expired', 'token_expired', '401 invalid_token'], ['client', 'poor', 'insufficient_scope', '403 insufficient_scope'],
             ['client', '-', 'no_token', '401 -'], ['client', 'bound', 'several_tokens', '400 invalid_request', '?access_token=x']) {
            my ($cert, $token, $reason, $refused, $query) = @$_;
            my %call = (cert => $cert, token => $token, h2 => $h2, path => '/' . ($query // ''));
            my $response = passes(\%call, $reason, "$cert $token");
            is($response->{body}, "passed\n", 'the whole response');
            is(join('', header($response, 'WWW-Authenticate')), '', 'no challenge');
            log_mark();
            check(call(%call, path => '/refusing' . ($query // '')), join(' ', $refused, $reason || ()), 'the twin that refuses');
        }
    }
}
--- no_error_log
[error]

=== TEST 2: the token is named in the log, as of a refusal
--- tls
location /refusing { access_by_lua_block { refusing:access() } content_by_lua_block { ngx.say("passed") } }
--- engine
kb = engine { report_only = true }
refusing = engine()
--- run
log_mark();
call(cert => 'thief', token => 'bound', path => $_) for '/', '/refusing';
my @ids = log_since() =~ /keybound: (?:reported|refused), .*?token=([0-9a-f]{8}),/g;
is(scalar @ids, 2, 'two lines');
is($ids[0], $ids[1], 'the same');
log_mark();
call(cert => 'client');
like(log_since(), qr/keybound: reported, reason=no_token, token=-, request_id=/, 'no token');
--- no_error_log
[error]

=== TEST 3: one that is only reported has no headers of its own, and what its client sent under these names is removed all the same
--- engine
names = { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" }, downstream_headers_claims = { "sub" }, downstream_headers_names = { "X-User" },
    hide_credentials = true, report_only = true }
kb = engine(names)
names.downstream_headers_claims, names.downstream_headers_names = nil, nil
bare = engine(names, { ctx = false })
--- tls
location / { access_by_lua_block { kb:access() } header_filter_by_lua_block { kb:header_filter() } proxy_pass http://$UPSTREAM; }
location /bare { access_by_lua_block { bare:access() } proxy_pass http://$UPSTREAM; }
--- run
my $token = named_token('bound');
for my $path ('/', '/bare') {
    my %call = (token => 'bound', path => $path, headers => ['X-User: root', 'X-Other: stays']);
    my $response = passes({ %call, cert => 'thief' }, 'certificate_mismatch', $path);
    is(seen($response, 'x-.*|authorization'), "authorization: Bearer $token|x-other: stays", 'the upstream');
    is(header($response, 'X-User'), 'upstream', 'the client');
    $response = passes({ %call, cert => 'client' }, '', $path);
    is(seen($response, 'x-.*|authorization'), "x-other: stays|x-user: user-1", 'the twin that is allowed: the upstream');
    is(header($response, 'X-User'), $path eq '/' ? 'user-1' : 'upstream', 'and the client');
}
--- no_error_log
[error]

=== TEST 4: ngx.ctx.keybound tells a report from an allowed request
--- engine
kb = engine { report_only = true }
silent = engine({ report_only = true }, { ctx = false })
refusing = engine()
--- tls
location / {
    access_by_lua_block { kb:access() }
    content_by_lua_block {
        local d = ngx.ctx.keybound
        ngx.say(tostring(d.allowed), " ", tostring(d.reported), " ", d.reason, " ", tostring(d.binding), " ", type(d.claims), " ", type(d.token_id), " ",
            tostring(d.status), " ", tostring(d.body))
    }
}
location /silent { access_by_lua_block { silent:access() } content_by_lua_block { ngx.say(tostring(ngx.ctx.keybound)) } }
location /engines { content_by_lua_block { ngx.say(tostring(kb.report_only), " ", tostring(refusing.report_only)) } }
--- run
is(call(cert => 'client', token => 'bound')->{body}, "true nil allowed nil table nil nil nil\n", 'allowed');
is(call(cert => 'thief', token => 'bound')->{body}, "true true certificate_mismatch true nil string nil nil\n", 'reported');
is(call(cert => 'client')->{body}, "true true no_token false nil nil nil nil\n", 'reported, without a token');
is(passes({ cert => 'thief', token => 'bound', path => '/silent' }, 'certificate_mismatch', 'ctx = false')->{body}, "nil\n", 'nothing is left');
is(call(path => '/engines')->{body}, "true false\n", 'the engine tells');
--- no_error_log
[error]

=== TEST 5: decide() says that it is only reported, and which headers are to be removed
--- engine
kb = engine { report_only = true, upstream_headers_claims = { "sub", "email" }, upstream_headers_names = { "X-User", "X-Email" }, hide_credentials = true }
--- tls
location / {
    content_by_lua_block {
        local d = kb:decide()
        ngx.say(tostring(d.allowed), " ", tostring(d.reported), " ", d.reason, " ", tostring(d.binding), " ", type(d.claims), " ", tostring(d.headers["X-User"]), " ",
            tostring(d.headers["X-Email"]), " ", tostring(d.headers.authorization), " ", type(d.response_headers))
    }
}
--- run
log_mark();
is(call(cert => 'client', token => 'bound')->{body}, "true nil allowed nil table user-1 false false table\n", 'allowed');
is(call(cert => 'thief', token => 'bound')->{body}, "true true certificate_mismatch true nil false false nil table\n", 'reported');
is(reported(), '', 'nothing is logged');
--- no_error_log
[error]

=== TEST 6: an authorization server that is not there is reported, too, after the steps and with the detail
--- engine
local config = { issuer = "https://localhost:GONE_PORT", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt" }
refusing = engine(config)
config.report_only = true
kb, second = engine(config), engine(config)
--- tls
location / {
    access_by_lua_block { kb:access() }
    content_by_lua_block { ngx.say(ngx.ctx.keybound.reason, " ", ngx.ctx.keybound.detail) }
}
location /decide { content_by_lua_block { local d = second:decide() ngx.say(tostring(d.allowed), " ", tostring(d.reported), " ", d.reason, " ", type(d.detail)) } }
location /refusing { access_by_lua_block { refusing:access() } content_by_lua_block { ngx.say("passed") } }
--- tokens eval
+{ elsewhere => { for => 'client', claims => { iss => "https://localhost:$main::gone_port" } } }
--- run
my %call = (cert => 'client', token => 'elsewhere');
like(passes(\%call, 'keys_unavailable', 'no server')->{body}, qr{^keys_unavailable https://localhost:\d+/\.well-known/openid-configuration: }, 'the detail');
like(log_since(), qr{keybound: reported, reason=keys_unavailable, token=[0-9a-f]{8}, request_id=[0-9a-f]{32}, detail=https://}, 'in the log');
is(call(%call, path => '/decide')->{body}, "true true keys_unavailable string\n", 'decide()');
log_mark();
check(call(%call, path => '/refusing'), '503 - keys_unavailable', 'the twin that refuses');
passes({ cert => 'thief', token => 'elsewhere' }, 'certificate_mismatch', 'what is known without the server');

=== TEST 7: after steps with a server that is there: what it says is reported, what is allowed is not
--- http_config
lua_shared_dict keybound 1m;
--- engine
kb = engine({ issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", client_id = "gateway", client_auth = "tls_client_auth",
    tls_client_auth_cert_id = "gateway", client_certificates = { gateway = { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key" } },
    report_only = true, upstream_headers_claims = { "client_id" }, upstream_headers_names = { "X-Client" } }, { store = "keybound" })
--- tls
location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- run
for my $round (1, 2) {
    for my $token (qw(as:client opaque:client)) {
        isnt(seen(passes({ cert => 'client', token => $token, headers => ['X-Client: root'] }, '', $token), 'x-client'), '', "$token: the claim");
        is(seen(passes({ cert => 'thief', token => $token, headers => ['X-Client: root'] }, 'certificate_mismatch', $token), 'x-client'), '', "$token: none");
    }
    is(seen(passes({ cert => 'client', token => 'junk', headers => ['X-Client: root'] }, 'token_inactive', 'junk'), 'x-client'), '', 'junk: none');
}
--- no_error_log
[error]

=== TEST 8: it is counted as report, never as deny
--- http_config
lua_shared_dict metrics 1m;
--- engine
kb = engine({ report_only = true }, { metrics = "metrics" })
--- tls
error_page 495 496 = @certificate;
location @certificate { access_by_lua_block { kb:refuse_certificate() } }
location /metrics { content_by_lua_block { require("resty.keybound").metrics("metrics") } }
--- run
passes({ cert => 'client', token => 'bound' }, '', 'allowed');
passes({ cert => 'thief', token => 'bound' }, 'certificate_mismatch', 'reported');
log_mark();
check(call(cert => 'expired', token => 'for:expired'), '401 invalid_token certificate_refused', 'what nginx refuses stays refused');
my $page = call(path => '/metrics')->{body};
for (['allow', 'allowed', 'miss'], ['report', 'certificate_mismatch', 'hit'], ['report', 'certificate_refused', 'none']) {
    my ($decision, $reason, $cache) = @$_;
    like($page, qr/^keybound_requests_total\{issuer="[^"]*",decision="$decision",reason="$reason",cache="$cache"\} 1$/m, "$decision $reason");
}
unlike($page, qr/deny/, 'no deny');
--- no_error_log
[error]

=== TEST 9: a warning at load says that nothing is refused
--- engine
refusing = engine()
kb = engine { report_only = true }
--- calls
client bound -> 200
--- error_log
keybound: report_only is true: nothing is refused; what would be refused is logged and counted, and passes
--- no_error_log
[error]

=== TEST 10: without report_only there is no such warning
--- calls
client bound -> 200
--- engine
kb = engine { report_only = false }
--- no_error_log
report_only
[error]

=== TEST 11: what keeps keybound from deciding is a 500 all the same
--- engine
kb = engine { report_only = true }
--- tls
location /broken {
    access_by_lua_block {
        local broken = setmetatable({}, { __index = kb })
        broken.ptr = nil
        setmetatable(broken, { __index = function(_, name) if name ~= "ptr" then return kb[name] end end })
        broken:access()
    }
    content_by_lua_block { ngx.say("passed") }
}
--- run
is(call(cert => 'client', token => 'bound', path => '/broken')->{status}, 500, 'no decision');
passes({ cert => 'thief', token => 'bound' }, 'certificate_mismatch', 'a decision');
--- error_log
keybound: a required pointer is NULL

=== TEST 12: compiled code reports, too: other certificates after a thousand that pass
--- engine
kb = engine({ report_only = true }, { ctx = false })
--- run
is(json([at_once(900, { cert => 'client', token => 'bound', keep => 1 })]), '[{"200":900}]', 'all pass');
for my $round (1 .. 3) {
    passes({ cert => 'thief', token => 'bound' }, 'certificate_mismatch', "round $round");
    passes({ cert => 'client', token => 'bound' }, '', "round $round");
}
--- no_error_log
[error]

=== TEST 13: display_errors tells the client the reason, in the body and in the challenge
--- engine
kb = engine { display_errors = true }
quiet = engine { display_errors = true, expose_error_code = false }
plain = engine()
--- tls
location /quiet { access_by_lua_block { quiet:access() } content_by_lua_block { ngx.say("passed") } }
location /plain { access_by_lua_block { plain:access() } content_by_lua_block { ngx.say("passed") } }
--- run
for (['/', 'thief', 'bound', 'Bearer error="invalid_token", error_description="certificate_mismatch"', '{"message":"Unauthorized","reason":"certificate_mismatch"}'],
     ['/', 'client', '-', 'Bearer', '{"message":"Unauthorized","reason":"no_token"}'],
     ['/quiet', 'thief', 'bound', 'Bearer', '{"message":"Unauthorized","reason":"certificate_mismatch"}'],
     ['/plain', 'thief', 'bound', 'Bearer error="invalid_token"', '{"message":"Unauthorized"}'],
     ['/', 'client', 'bound', '', "passed\n"]) {
    my ($path, $cert, $token, $challenge, $body) = @$_;
    my $response = call(cert => $cert, token => $token, path => $path);
    is(join('|', header($response, 'WWW-Authenticate')), $challenge, "$path: challenge");
    is($response->{body}, $body, "$path: body");
}
--- no_error_log
[error]
