# What logins and sessions need of this host: the facts of HTTP, answers with headers, cookies beside those of the upstream, the store. By a
# library that tells what it got, and says what its query asks for: t/lib/fake_http.c.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# `/` and `/bare` (ctx = false) go on to an upstream that sends back what it got, and sets cookies itself.
my $UPSTREAM = <<'EOC';
server {
    listen $UPSTREAM;
    location / {
        client_body_buffer_size 64k;
        content_by_lua_block {
            ngx.header["Set-Cookie"] = { "upstream=1", "upstream=2" }
            ngx.header["X-Other"] = "of the upstream"
            ngx.req.read_body()
            ngx.print(ngx.req.raw_header(), "body: ", ngx.req.get_body_data() or "none")
        }
    }
    location ~ /broken { return 444; }
}
EOC
my $LOCATIONS = <<'EOC';
location / { access_by_lua_block { kb:access() } header_filter_by_lua_block { kb:header_filter() } proxy_pass http://$UPSTREAM; }
location /bare { access_by_lua_block { bare:access() } proxy_pass http://$UPSTREAM; }
location /form { access_by_lua_block { form:access() } proxy_pass http://$UPSTREAM; }
location /small { client_body_buffer_size 1k; access_by_lua_block { form:access() } proxy_pass http://$UPSTREAM; }
location /file { client_body_in_file_only on; access_by_lua_block { form:access() } proxy_pass http://$UPSTREAM; }
location /variable { access_by_lua_block { variable:access() } proxy_pass http://$UPSTREAM; }
location /nothing { access_by_lua_block { nothing:access() } proxy_pass http://$UPSTREAM; }
location /cookies { rewrite_by_lua_block { ngx.header["Set-Cookie"] = "earlier=1" } access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
EOC
my $ENGINES = <<'EOC';
local new = require("resty.keybound").new
kb = assert(new('{"http":1}'))
bare = assert(new('{"http":1}', { ctx = false }))
form = assert(new('{"http":1,"form":1}'))
variable = assert(new('{"http":1}', { certificate_source = "variable" }))
nothing = assert(new('{"nothing":1}', { ctx = false }))
EOC
# `--- real`: by the real library, whose engine is `kb`.
my $REAL = 'location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }';
add_block_preprocessor(sub {
    my ($block) = @_;
    if (defined $block->real) {
        $block->set_value(http_config => "lua_shared_dict keybound 1m;\n");
        $block->set_value(servers => $UPSTREAM);
        $block->set_value(tls => $REAL);
        return;
    }
    $block->set_value(fake_library => read_file("$ROOT/t/lib/fake_http.c"));
    $block->set_value(engine => $ENGINES . ($block->engine // ''));
    $block->set_value(servers => $UPSTREAM);
    $block->set_value(tls => ($block->tls // '') . $LOCATIONS);
});

# What the library was told, in one line.
sub facts { my ($response) = @_; return join ' | ', split /\n/, $response->{body} }
sub cookies { return join ' | ', header($_[0], 'Set-Cookie') }
sub upstream_saw { my ($response, $name) = @_; return join ' | ', $response->{body} =~ /^$name:\s*(.*?)\r?$/img }

run_tests();

__DATA__

=== TEST 1: what the request has, and nothing else
--- run
our $host = "api.test";
my @navigation = ('Accept: text/html', 'Origin: https://other.test', 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document');
my $all = "accept: text/html | origin: https://other.test | site: cross-site | mode: navigate | dest: document";
for my $path ('/', '/bare', '/form', '/variable') {
    for my $h2 (0, 1) {
        my %call = (path => "$path?respond", h2 => $h2);
        is(facts(call(%call)), "method: GET | host: $host | target: $path?respond", "$path, h2=$h2: a bare request");
        is(facts(call(%call, path => "$path?respond&%2F%20a=+b", method => 'DELETE', headers => [@navigation, 'Refresh-Token: r1'])),
            "method: DELETE | host: $host | target: $path?respond&%2F%20a=+b | $all | refresh_token: r1", "$path, h2=$h2: all of it");
        is(facts(call(%call)), "method: GET | host: $host | target: $path?respond", "$path, h2=$h2: nothing is left of it");
    }
}
is(facts(call(path => '/%61/../x//y?respond')), "method: GET | host: $host | target: /%61/../x//y?respond", 'as it was sent');
is(call(path => '/nothing?respond')->{body}, '', 'an engine that needs nothing is told nothing');
--- no_error_log
[error]

=== TEST 2: several cookie headers are one, with HTTP/1.1 and with HTTP/2
--- run
for my $h2 (0, 1) {
    my %call = (path => '/?respond', h2 => $h2);
    is(facts(call(%call, headers => ['Cookie: a=1'])) =~ s/.*\| (?=cookie)//r, 'cookie: a=1', "h2=$h2: one");
    is(facts(call(%call, headers => ['Cookie: a=1; b=2', 'Accept: */*', 'Cookie: c=3', 'Cookie: a=4'])) =~ s/.*\| (?=cookie)//r,
        'cookie: a=1; b=2; c=3; a=4 | accept: */*', "h2=$h2: three");
}
--- no_error_log
[error]

=== TEST 3: several refresh tokens are not the first one
--- run
for my $h2 (0, 1) {
    for my $path ('/', '/variable') {
        is(facts(call(path => "$path?respond", h2 => $h2, headers => ['Refresh-Token: a', 'X: y', 'Refresh-Token: b'])) =~ s/.*\| //r, 'refresh_token: a, b', "$path, h2=$h2");
        is(facts(call(path => "$path?respond", h2 => $h2, headers => ['Refresh-Token: a'])) =~ s/.*\| //r, 'refresh_token: a', "$path, h2=$h2: one");
    }
}
--- no_error_log
[error]

=== TEST 4: an answer with its status, headers and body; cookies beside those that there are
--- run
my @cookies = map { "$$_[0]=secret-$$_[1]; Path=/" } ['one', 1], ['two', 2], ['three', 3];
for my $h2 (0, 1) {
    for my $path ('/', '/bare', '/cookies') {
        my %call = (path => "$path?302", h2 => $h2);
        for my $method ('GET', 'HEAD', 'POST') {
            log_mark();
            my $response = call(%call, method => $method);
            my $name = "$path, h2=$h2, $method";
            is($response->{status}, 302, "$name: status");
            is(join('|', header($response, 'Location')), 'https://as.test/auth?a=b&c=%2F', "$name: where to go on, as it was given");
            is(cookies($response), join(' | ', $path eq '/cookies' ? 'earlier=1' : (), @cookies), "$name: cookies");
            is(join('|', header($response, 'X-Other'), header($response, 'Cache-Control'), header($response, 'Content-Type')), 'of the engine|no-store|text/plain', "$name: other headers");
            my $body = "method: $method\nhost: api.test\ntarget: $path?302\n";
            is($response->{body}, $method eq 'HEAD' ? '' : $body, "$name: body");
            is(header($response, 'Content-Length'), length $body, "$name: its length");
            like(log_since(), qr/\[notice\].*keybound: answered, reason=login_started, status=302, token=-, request_id=[0-9a-f]{32}[, ]/, "$name: the log");
            unlike(log_since(), qr/refused|secret|as\.test/, "$name: and no more");
        }
    }
}
log_mark();
my $response = call(path => '/?200&detail');
is("$response->{status} " . header($response, 'Content-Type'), '200 text/html; charset=utf-8', 'a page');
like(log_since(), qr/\[warn\].*keybound: answered, reason=logged_out, status=200, .*, detail=something was not checked/, 'in the log');
log_mark();
$response = call(path => '/?400');
is($response->{status}, 400, 'a refusal');
is(cookies($response), join(' | ', @cookies), 'with cookies, too');
like(log_since(), qr/\[warn\].*keybound: refused, reason=login_state_missing, status=400, /, 'in the log');
$response = call(path => '/?302&none');
is("$response->{status}" . cookies($response), '302', 'one without a check has no headers');
--- no_error_log
[error]

=== TEST 5: an allowed request: cookies beside the upstream's, its own credentials for the upstream, a note in the log
--- run
my $cookies = join ' | ', (map { "$$_[0]=secret-$$_[1]; Path=/" } ['one', 1], ['two', 2], ['three', 3]), 'upstream=1', 'upstream=2';
for my $h2 (0, 1) {
    for my $path ('/', '/bare', '/cookies') {
        my %call = (path => "$path?allow", h2 => $h2, headers => ['Authorization: Bearer of-the-client', 'Cookie: a=1', 'Cookie: b=2']);
        my $name = "$path, h2=$h2";
        log_mark();
        my $response = call(%call);
        is($response->{status}, 200, "$name: status");
        is(join(' | ', sort split / \| /, cookies($response)), join(' | ', sort split(/ \| /, $cookies), $path eq '/cookies' ? 'earlier=1' : ()), "$name: cookies");
        is(header($response, 'X-Other'), $path eq '/' ? 'of the engine' : 'of the upstream', "$name: other headers are header_filter()'s");
        is(upstream_saw($response, 'Authorization') . '|' . upstream_saw($response, 'Cookie'), 'Bearer of-the-session|', "$name: the upstream");
        is(log_since() =~ /keybound/ ? log_since() : '', '', "$name: nothing is logged");
        is(upstream_saw(call(%call, path => "$path?allow&remove"), 'Authorization'), '', "$name: without a token");
        is(cookies(call(%call, path => "$path?allow&plain")), $path eq '/cookies' ? 'earlier=1 | upstream=1 | upstream=2' : 'upstream=1 | upstream=2', "$name: without cookies");
        is(cookies(call(%call, method => 'HEAD')), cookies($response), "$name: HEAD");
        log_mark();
        call(%call, path => "$path?allow&detail");
        like(log_since(), qr/\[notice\].*keybound: note, request_id=[0-9a-f]{32}, detail=something was not checked/, "$name: a note");
        unlike(log_since(), qr/secret|of-the-/, "$name: and no more");
    }
}
--- no_error_log
[error]

=== TEST 6: they are sent where the upstream fails, too: what was rotated is not lost
--- run
for my $path ('/broken', '/bare/broken') {
    my $response = call(path => "$path?allow");
    is($response->{status}, 502, 'the upstream fails');
    is(cookies($response), join(' | ', map { "$$_[0]=secret-$$_[1]; Path=/" } ['one', 1], ['two', 2], ['three', 3]), 'cookies');
}
--- error_log
upstream prematurely closed connection

=== TEST 7: what access() leaves behind has no cookies; what decide() gives has them
--- tls
location /ctx {
    access_by_lua_block { kb:access() }
    content_by_lua_block { ngx.print(require("cjson").encode { ngx.ctx.keybound.response_headers, ngx.ctx.keybound.claims.sub }) }
}
location /decide {
    content_by_lua_block {
        local d = kb:decide()
        ngx.print(require("cjson").encode { d.allowed, d.reason, d.headers or 0, d.response_headers, d.detail or 0, d.status or 0 })
    }
}
--- run
my $two = '"set-cookie":["one=secret-1; Path=/","two=secret-2; Path=/","three=secret-3; Path=/"],"x-other":"of the engine"';
sub canonical { return json(json($_[0])) }
is(canonical(call(path => '/ctx?allow')->{body}), '[{"x-other":"of the engine"},"user-1"]', 'access()');
is(canonical(call(path => '/decide?allow')->{body}), canonical(qq([true,"allowed",{"authorization":"Bearer of-the-session","cookie":false},{$two},0,0])), 'decide(), allowed');
is(canonical(call(path => '/decide?allow&detail')->{body}) =~ /,"something was not checked",0\]$/ ? 1 : 0, 1, 'with a note');
is(canonical(call(path => '/decide?302')->{body}), canonical(qq([false,"login_started",0,{"location":"https://as.test/auth?a=b&c=%2F",$two},0,302])), 'decide(), answered');
is(canonical(call(path => '/decide?400&none&detail')->{body}), '[false,"login_state_missing",0,{},0,400]', 'decide(), without a check');
--- no_error_log
[error]

=== TEST 8: a form is read, and the upstream gets it all the same
--- run
my $type = 'Content-Type: application/x-www-form-urlencoded';
my $data = 'username=alice&password=a%20b';
sub form { my %call = (method => 'POST', data => $data, headers => [$type], @_); return facts(call(%call)) =~ /\| form: (.*)$/ ? $1 : '-' }
sub arrives { my %call = (method => 'POST', data => $data, headers => [$type], @_); return call(%call)->{body} =~ /\r\nbody: (.*)$/s ? $1 : '-' }
for my $h2 (0, 1) {
    for my $path ('/form', '/small', '/file') {
        my %call = (h2 => $h2, path => "$path?respond");
        is(form(%call), $data, "$path, h2=$h2: the form");
        is(arrives(%call, path => "$path?allow"), $data, "$path, h2=$h2: at the upstream");
        is(form(%call, headers => ["Content-Type: $_"]), $data, "$path, h2=$h2: $_") for 'Application/X-WWW-Form-urlencoded;charset=UTF-8', 'application/x-www-form-urlencoded ; x';
        is(form(%call, headers => ["Content-Type: $_"]), '-', "$path, h2=$h2: $_") for 'application/json', 'application/x-www-form-urlencoded2', 'text/plain; application/x-www-form-urlencoded', '';
        is(form(%call, method => $_), '-', "$path, h2=$h2: $_") for 'PUT', 'PATCH', 'DELETE';
        for (['16384', '16384 bytes of b'], [16385, '-'], [40000, '-']) {
            my $long = 'a' x ($$_[0] - 1) . 'b';
            is(form(%call, data => $long), $$_[1], "$path, h2=$h2: $$_[0] bytes");
            is(length arrives(%call, path => "$path?allow", data => $long), $$_[0], "$path, h2=$h2: $$_[0] bytes at the upstream");
        }
        is(form(%call, data => ''), '-', "$path, h2=$h2: an empty one");
        is(form(%call, headers => [$type, 'Transfer-Encoding: chunked']), '-', "$path: of unknown length") unless $h2;
        is(arrives(%call, path => "$path?allow", headers => [$type, 'Transfer-Encoding: chunked']), $data, "$path: at the upstream") unless $h2;
        is(form(%call, data => undef, method => 'GET'), '-', "$path, h2=$h2: nothing is left of it");
    }
    is(form(h2 => $h2, path => '/form?respond'), $data, "h2=$h2: once more");
    is(form(h2 => $h2, path => '/?respond'), '-', "h2=$h2: an engine that needs none does not read it, nor that of another request");
    is(arrives(h2 => $h2, path => '/?allow'), $data, "h2=$h2: at the upstream");
}
--- no_error_log
[error]

=== TEST 9: while one request waits for its form, the facts of others are not mixed with its own
--- run
my $type = 'Content-Type: application/x-www-form-urlencoded';
my $slow = Keybound::start_command('', 'sh', '-c', "{ printf 'POST /form?respond HTTP/1.1\\r\\nHost: api.test\\r\\n$type\\r\\nCookie: a=slow\\r\\nContent-Length: 8\\r\\nConnection: close\\r\\n\\r\\na=1'; sleep 1; printf '&b=2\\n'; sleep 1; } | "
    . "openssl s_client -quiet -connect 127.0.0.1:$Keybound::TLS_PORT -servername api.test -CAfile $PKI/ca.crt 2>/dev/null");
select undef, undef, undef, 0.5;
for (1 .. 5) {
    is(facts(call(path => '/form?respond', method => 'POST', data => 'c=3', headers => [$type, 'Cookie: a=fast'])) =~ s/.*(?=cookie)//r, 'cookie: a=fast | form: c=3', 'another request');
}
my (undef, $out) = Keybound::finish_command($slow);
like($out, qr/target: \/form\?respond\ncookie: a=slow\nform: a=1&b=2\n/, 'the slow one');
--- no_error_log
[error]

=== TEST 10: an engine that needs the store is not made without
--- http_config
lua_shared_dict keybound 1m;
--- tls
location /new {
    content_by_lua_block {
        local keybound = require "resty.keybound"
        local config = '{"http":1,"store":1}'
        ngx.say(select(2, keybound.new(config)))
        ngx.say(type(keybound.new(config, { store = "keybound" })))
        ngx.say(type(keybound.new('{"http":1}')))
        local ok, message, option = keybound.check(config, {})
        ngx.say(tostring(ok), " ", message, " ", option)
        ngx.say(tostring(keybound.check(config, { store = "keybound" })), " ", tostring(keybound.check(config)), " ", tostring(keybound.check('{"http":1}', {})))
    }
}
--- run
my $message = 'store: required for logins, sessions and proofs: what all workers must know of them is kept there';
is(call(path => '/new')->{body}, "keybound.new: $message\ntable\ntable\nnil $message store\ntrue true true\n", 'new() and check()');
--- no_error_log
[error]

=== TEST 11: compiled or not, the facts are the same
--- engine
jit.opt.start("hotloop=1", "hotexit=1")
--- run
for my $round (1 .. 20) {
    is(facts(call(path => '/?respond', headers => ["Cookie: a=$round", "Origin: https://o$round.test"])), "method: GET | host: api.test | target: /?respond | cookie: a=$round | origin: https://o$round.test", "round $round");
    is(cookies(call(path => '/?allow&plain')), 'upstream=1 | upstream=2', 'allowed');
}
--- no_error_log
[error]

=== TEST 12: by the real library: credentials of a form, and a session from then on; the upstream sees neither password nor cookie of ours
--- real
--- engine
kb = engine({ issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", client_id = "web-secret", client_secret = "web-secret-secret",
    auth_methods = { "session", "password" }, password_param_type = { "body" }, scopes = { "openid", "read" }, token_post_args_names = { "resource" },
    token_post_args_values = { "https://api.test" }, proof_of_possession_auth_methods_validation = false, session_secret = ("s"):rep(32) }, { store = "keybound", ctx = false })
--- run
my %form = (method => 'POST', data => 'username=alice&password=alice-password', headers => ['Content-Type: application/x-www-form-urlencoded']);
for my $h2 (0, 1) {
    log_mark();
    my $response = call(%form, h2 => $h2);
    is($response->{status}, 200, "h2=$h2: a form");
    my @cookies = header($response, 'Set-Cookie');
    is(scalar(grep { /^__Host-session=1\.[\w-]+; Path=\/; Secure; HttpOnly; SameSite=Lax$/ } @cookies), 1, "h2=$h2: a session");
    is(join(' ', grep { /^upstream/ } @cookies), 'upstream=1 upstream=2', "h2=$h2: beside the cookies of the upstream");
    like($response->{body}, qr/body: username=alice&password=alice-password$/, "h2=$h2: the form goes on");
    like(upstream_saw($response, 'Authorization'), qr/^Bearer ey[\w.-]+$/, "h2=$h2: the upstream gets the token");
    like(log_since(), qr/\[notice\].*keybound: note, .*detail=proof of possession was not checked, method=password/, "h2=$h2: a note");
    my ($session) = map { /^(__Host-session=[^;]+)/ } @cookies;
    $response = call(h2 => $h2, headers => ["Cookie: a=1; $session", 'Cookie: b=2']);
    is("$response->{status} " . upstream_saw($response, 'Cookie'), '200 a=1; b=2', "h2=$h2: by the session");
    unlike(log_since(), qr/alice|ey\w{10}|\Q$session\E/, "h2=$h2: the log holds none of it");
    log_mark();
    check(call(%form, h2 => $h2, data => 'username=alice&password=wrong'), '401 - credentials_refused', "h2=$h2: the twin with a wrong password");
    log_mark();
    check(call(%form, h2 => $h2, data => 'username=alice&username=bob&password=x'), '400 - credentials_malformed', "h2=$h2: the twin with two names");
    log_mark();
    check(call(%form, h2 => $h2, headers => ['Content-Type: text/plain']), '401 - no_token', "h2=$h2: the twin that is no form");
}
--- no_error_log
[error]

=== TEST 13: what is good once is sent once, on a connection of its own; what is not, on one that is kept, and again if that was closed
--- real
--- engine
kb = engine({ issuer = "$PEER", jwks = cjson.null, jwks_uri = "$PEER/jwks", token_endpoint = "$PEER/token", introspection_endpoint = "$PEER/introspect",
    ssl_trusted_certificate = "$PKI/ca.crt", client_id = "web", client_secret = "secret", auth_methods = { "introspection", "password" },
    introspection_cache_ttl = 0, token_cache_entries = 0, proof_of_possession_mtls = "off" })
--- run
sub basic { return (authorization => 'Basic ' . MIME::Base64::encode_base64($_[0] . ':x', '')) }
my $now = time;
my $introspection = { json => { active => JSON::PP::true, iss => 'x', aud => 'https://api.test', sub => 'u', exp => $now + 600 } };
my $token = { json => { access_token => 'opaque', token_type => 'Bearer', expires_in => 600 } };
my $cut = [{ close => 'abrupt' }];
# Of each connection the paths that were asked for.
sub seen { return map { join ' ', map { $_->{path} } @{ $_->{requests} } } @{ peer_log()->{log} } }
$introspection->{json}{iss} = 'https://localhost:' . Keybound::peer_start()->{port};
peer_script({ '/token' => $token, '/introspect' => $introspection });
is(call(basic("u$_"))->{status}, 200, "user $_") for 1 .. 3;
is(join('|', sort { $a cmp $b } seen()), '/introspect /introspect /introspect|/token|/token|/token', 'each token request has a connection of its own');
sub count { my ($path) = @_; return scalar grep { $_ eq $path } map { split ' ' } seen() }
peer_script({ '/token' => $cut, '/introspect' => $introspection });
log_mark();
check(call(basic('u4')), '503 - server_unavailable', 'no answer');
is(count('/token'), 4, 'it is not sent again');
peer_script({ '/token' => $token, '/introspect' => { turns => [$cut, $introspection] } });
is(call(basic('u1'))->{status}, 200, 'the twin that may be sent again');
is(count('/introspect'), 5, 'is');
is((grep { /introspect/ } seen())[0], '/introspect /introspect /introspect /introspect', 'first on the connection that was kept');
--- error_log
endpoint=token
