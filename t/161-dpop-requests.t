# What of a request a proof is held against, as OpenResty sees it: the connection, proxies before it, internal redirects; and what goes on
# to the upstream and back to the client.
use Keybound;
use Proofs;
use Test::Nginx::Socket 'no_plan';

mkdir "$RUN/www";
write_file("$RUN/www/app.html", 'the application');
chmod 0755, $RUN, "$RUN/www";

# SHOW: the upstream says how it got the token, and whether it got a proof
my $SHOW = <<'EOL';
content_by_lua_block {
    local seen = {}
    for name, value in pairs(ngx.req.get_headers(0, true)) do
        name = name:lower():gsub("_", "-")
        if name == "authorization" then seen[#seen + 1] = value:match("^%S+") end
        if name == "dpop" then seen[#seen + 1] = "proof" end
    end
    table.sort(seen)
    ngx.print("got: ", table.concat(seen, ","))
}
EOL
add_block_preprocessor(sub {
    my ($block) = @_;
    for my $name (qw(tls config servers)) {
        $block->set_value($name => $block->$name =~ s/\$RUN/$RUN/gr =~ s/SHOW/$SHOW/gr) if defined $block->$name;
    }
});

# challenged(%call): the nonce that the gateway gives
sub challenged {
    my (%call) = @_;
    my $response = tries('401 use_dpop_nonce proof_nonce_missing', 'a nonce is asked for', mine(%call));
    return scalar header($response, 'DPoP-Nonce');
}

run_tests();

__DATA__

=== TEST 1: 9449-2-a: by plain HTTP no proof is taken, unless a trusted proxy says that the client used TLS
--- engine
kb = dpop()
trusting = dpop { trusted_ips = { "127.0.0.0/8" } }
others = dpop { trusted_ips = { "10.0.0.0/8", "unix:" } }
--- config
underscores_in_headers on;
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } }
location /trusting { access_by_lua_block { trusting:access() } content_by_lua_block { ngx.say("passed") } }
location /others { access_by_lua_block { others:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $refused = '401 invalid_dpop_proof proof_over_plain_http';
my $proto = 'X-Forwarded-Proto: https';
tries($refused, 'plain', mine(plain => 1));
tries($refused, 'nobody is trusted', mine(plain => 1, headers => [$proto]));
tries($refused, 'another proxy is trusted', mine(plain => 1, path => '/others', headers => [$proto]));
tries($refused, 'the proxy does not say it', mine(plain => 1, path => '/trusting'));
tries($refused, 'the proxy says http', mine(plain => 1, path => '/trusting', headers => ['X-Forwarded-Proto: http']));
tries($refused, 'somebody said something before it', mine(plain => 1, path => '/trusting', headers => [$proto, 'X-Forwarded-Proto: http']));
tries($refused, 'and the other way', mine(plain => 1, path => '/trusting', headers => ['X-Forwarded-Proto: http', $proto]));
tries('200', 'a trusted proxy says it', mine(plain => 1, path => '/trusting', headers => [$proto]));
tries($refused, 'in the spelling that a proxy may let through', mine(plain => 1, path => '/trusting', headers => ['X_Forwarded_Proto: https']));
tries('200', 'which counts for nothing', mine(plain => 1, path => '/trusting', headers => [$proto, 'X_Forwarded_Proto: http', 'X-Forwarded_Host: evil.test']));
tries('200', 'TLS', mine());

=== TEST 2: the address is that of the connection, whatever realip makes of it
--- engine
ORIGINS = { "https://api.test", "https://pub.test" }
inner = dpop { public_origin = ORIGINS, trusted_ips = { "10.0.0.0/8" } }
outer = dpop { public_origin = ORIGINS, trusted_ips = { "127.0.0.1" } }
--- tls
set_real_ip_from 127.0.0.1;
real_ip_header X-Real-IP;
location /inner { access_by_lua_block { inner:access() } add_header X-Addr $remote_addr; content_by_lua_block { ngx.say("passed") } }
location /outer { access_by_lua_block { outer:access() } add_header X-Addr $remote_addr; content_by_lua_block { ngx.say("passed") } }
--- run
my @from = (headers => ['X-Real-IP: 10.1.1.1', 'X-Forwarded-Host: pub.test']);
my $response = tries('200', 'the client says that it is a proxy, and nobody believes it', mine(@from, path => '/inner'));
is(header($response, 'X-Addr'), '10.1.1.1', 'although nginx does');
tries('401 invalid_dpop_proof proof_uri_mismatch', 'what it says does not count', mine(@from, path => '/inner', proof => { uri => 'https://pub.test/inner' }));
tries('200', 'the proxy of this connection counts', mine(@from, path => '/outer', proof => { uri => 'https://pub.test/outer' }));
tries('401 invalid_dpop_proof proof_uri_mismatch', 'and what it said', mine(@from, path => '/outer'));

=== TEST 3: behind a proxy over a UNIX socket: its origin, port and prefix, where unix: is trusted
--- engine
kb = dpop { public_origin = cjson.null, trusted_ips = { "unix:" } }
strict = dpop { public_path_prefix = "/base" }
untrusting = dpop { trusted_ips = { "0.0.0.0/0", "::/0" } }
--- servers
server {
    listen $UPSTREAM;
    location / { access_by_lua_block { kb:access() } SHOW }
    location /untrusting { access_by_lua_block { untrusting:access() } SHOW }
}
--- tls
proxy_http_version 1.1;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host $http_x_public;
proxy_set_header X-Forwarded-Port $http_x_port;
proxy_set_header X-Forwarded-Prefix $http_x_prefix;
location / { proxy_pass http://$UPSTREAM; }
location /strict { access_by_lua_block { strict:access() } SHOW }
--- run
my $mismatch = '401 invalid_dpop_proof proof_uri_mismatch';
tries('200', 'its host', mine(path => '/a', headers => ['X-Public: Pub.Example.Org'], proof => { uri => 'https://pub.example.org/a' }));
tries($mismatch, 'not ours', mine(path => '/a', headers => ['X-Public: pub.example.org']));
tries($mismatch, 'it says none', mine(path => '/a'));
tries('200', 'its port', mine(path => '/a', headers => ['X-Public: pub.example.org', 'X-Port: 8443'], proof => { uri => 'https://pub.example.org:8443/a' }));
tries($mismatch, 'another port', mine(path => '/a', headers => ['X-Public: pub.example.org', 'X-Port: 8443'], proof => { uri => 'https://pub.example.org/a' }));
tries('200', 'its prefix', mine(path => '/a', headers => ['X-Public: pub.example.org', 'X-Prefix: /p/'], proof => { uri => 'https://pub.example.org/p/a' }));
tries($mismatch, 'a list', mine(path => '/a', headers => ['X-Public: pub.example.org, evil.test'], proof => { uri => 'https://pub.example.org/a' }));
tries('200', 'a prefix of our own', mine(path => '/strict', proof => { uri => 'https://api.test/base/strict' }));
tries($mismatch, 'not without', mine(path => '/strict'));
tries('401 invalid_dpop_proof proof_over_plain_http', 'addresses are no sockets', mine(path => '/untrusting'));

=== TEST 4: of several origins the one that Host names; where nginx goes by another name, none
--- engine
kb = dpop { public_origin = { "https://api.test", "https://www.test:8443" } }
--- tls
server_name www.test;
--- run
my $mismatch = '401 invalid_dpop_proof proof_uri_mismatch';
for my $h2 (0, 1) {
    tries('200', "h2=$h2: the first", mine(h2 => $h2, path => '/a'));
    for my $host ('www.test:8443', 'WWW.test:8443') {
        tries('200', "h2=$h2: the second, $host", mine(h2 => $h2, headers => ["Host: $host"], path => '/a', proof => { uri => 'https://www.test:8443/a' }));
    }
    for my $host ('other.test', 'www.test', 'api.test:8443', 'api.test.') {
        tries($mismatch, "h2=$h2: $host", mine(h2 => $h2, headers => ["Host: $host"], path => '/a', proof => { uri => "https://$host/a" }));
    }
    tries($mismatch, "h2=$h2: the second's", mine(h2 => $h2, path => '/a', proof => { uri => 'https://www.test:8443/a' }));
}
# A whole URL in the request line: nginx serves its host.
for (['/a', 'api.test', 200], ['https://www.test/a', 'api.test', 401], ['https://api.test/a', 'api.test', 401]) {
    my ($target, $host, $expected) = @$_;
    my %one = mine(path => '/a');
    my $response = finish_s_client(start_s_client(%one, host => $host, sni => 'api.test', path => $target));
    is($response->{status}, $expected, "$target, Host: $host");
}

=== TEST 5: one request through error_page, try_files, index, named locations and exec has used its proof once; the next one with it has not
--- tls
root $RUN/www;
access_by_lua_block { kb:access() }
location / { try_files $uri /app.html; }
location /gone { error_page 404 /app.html; content_by_lua_block { ngx.exit(404) } }
location /named { error_page 404 = @named; content_by_lua_block { ngx.exit(404) } }
location @named { SHOW }
location /dir/ { alias $RUN/www/; index app.html; }
location /exec { content_by_lua_block { ngx.exec("/show") } }
location /far { rewrite ^ /exec last; }
location /show { SHOW }
--- run
for my $h2 (0, 1) {
    for (['/some/page', 'the application'], ['/gone', 'the application'], ['/named', 'got: Bearer'], ['/dir/', 'the application'], ['/exec', 'got: Bearer'],
         ['/far', 'got: Bearer'], ['/gone', 'the application', 'POST']) {
        my ($path, $body, $method) = @$_;
        my %one = mine(h2 => $h2, path => $path, $method ? (method => $method, data => 'x') : ());
        my $response = tries($path =~ /gone|named/ ? '404 nginx' : '200', "h2=$h2: $path", %one);
        is($response->{body}, $body, "h2=$h2: $path: what answers");
        tries('401 invalid_dpop_proof proof_replayed', "h2=$h2: $path: again", %one);
    }
}
my %one = mine(path => '/gone', method => 'POST', data => 'x', proof => { claims => { htm => 'GET' } });
tries('401 invalid_dpop_proof proof_method_mismatch', 'the method is that of the client, not of error_page', %one);
# On one connection, at the same place in memory.
my %show = mine(path => '/show');
is(join(' ', map { $_->{status} } calls_on_one_connection(\%show, \%show, { mine(path => '/show') })), '200 401 200', 'on one connection');
--- timeout: 30

=== TEST 6: a request that was let through goes on where it is redirected to, however long its upstream took; another one with its proof does not
--- engine
KEY = ("n"):rep(32)
kb = dpop { dpop_proof_lifetime = 2, dpop_proof_leeway = 0 }
nonce = dpop { dpop_proof_lifetime = 2, dpop_proof_leeway = 0, dpop_use_nonce = true, dpop_nonce_secret = KEY }
as_it_came = dpop { dpop_proof_lifetime = 2, dpop_proof_leeway = 0, upstream_dpop_as_bearer = false }
function gc() collectgarbage() collectgarbage() end
--- servers
server {
    listen $UPSTREAM;
    location / { content_by_lua_block { ngx.sleep(3.1) ngx.header["X-Accel-Redirect"] = "/show" .. ngx.var.uri } }
    location /late { content_by_lua_block { ngx.sleep(3.1) ngx.exit(502) } }
}
--- tls
location /kb { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
location /nonce { access_by_lua_block { nonce:access() } proxy_pass http://$UPSTREAM; }
location /as_it_came { access_by_lua_block { as_it_came:access() } proxy_pass http://$UPSTREAM; }
location /late { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; proxy_intercept_errors on; error_page 502 =200 /show/kb; }
location /show/kb { rewrite_by_lua_block { gc() } access_by_lua_block { kb:access() } SHOW }
location /show/nonce { rewrite_by_lua_block { gc() } access_by_lua_block { nonce:access() } SHOW }
location /show/as_it_came { rewrite_by_lua_block { gc() } access_by_lua_block { as_it_came:access() } SHOW }
--- run
for (['/kb', 'got: Bearer', 'GET'], ['/kb', 'got: Bearer', 'POST'], ['/late', 'got: Bearer', 'POST'], ['/as_it_came', 'got: DPoP,proof', 'GET'],
     ['/nonce', 'got: Bearer', 'GET', 1]) {
    my ($path, $got, $method, $nonce) = @$_;
    my $proof = $nonce ? { nonce => scalar header(call(mine(path => '/show/nonce')), 'DPoP-Nonce') } : {};
    my %one = mine(path => $path, method => $method, $method eq 'GET' ? () : (data => 'x'), proof => $proof);
    is(tries('200', "$method $path", %one)->{body}, $got, "$method $path: what the upstream gets");
    tries($nonce ? '401 use_dpop_nonce proof_nonce_invalid' : '401 invalid_dpop_proof proof_expired', "$method $path: again", %one);
}
--- timeout: 40

=== TEST 7: that a request was let through by a session, or by a gateway with another store or none, makes no used proof a good one
--- http_config
lua_shared_dict others 1m;
--- engine
SHORT = { dpop_proof_lifetime = 2, dpop_proof_leeway = 0 }
kb = dpop(SHORT)
others = dpop(SHORT, { store = "others" })
careless = dpop({ dpop_proof_lifetime = 2, dpop_proof_leeway = 0, insecure_dpop_replay = true }, {})
web = dpop { auth_methods = { "session", "bearer" }, session_secret = ("s"):rep(32), proof_of_possession_dpop = "optional", proof_of_possession_mtls = "optional",
    dpop_proof_lifetime = 2, dpop_proof_leeway = 0, session_absolute_timeout = 3 }
--- servers
server {
    listen $UPSTREAM;
    location / { content_by_lua_block { ngx.sleep(3.6) ngx.header["X-Accel-Redirect"] = "/show" .. ngx.var.uri } }
}
--- tls
location / { access_by_lua_block { kb:access() } SHOW }
location /others { access_by_lua_block { others:access() } proxy_pass http://$UPSTREAM; }
location /careless { access_by_lua_block { careless:access() } proxy_pass http://$UPSTREAM; }
location /web { access_by_lua_block { web:access() } proxy_pass http://$UPSTREAM; }
location /show/web { access_by_lua_block { web:access() } SHOW }
location /kb { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- run
my $refused = '401 invalid_dpop_proof proof_expired';
for my $path ('/others', '/careless') {
    my %one = mine(path => $path);
    tries($refused, "$path: elsewhere it passed, and here it is late", %one);
}
tries('200', 'its twin passed here', mine(path => '/kb'));
my ($cookie) = header(call(path => '/show/web', token => 'unbound'), 'Set-Cookie') =~ /^(__Host-session=[^;]+)/;
my %one = mine(path => '/web');
log_mark();
is(join(' ', call(%one, headers => [@{ $one{headers} }, "Cookie: $cookie"])->{status}, reasons()), '401 401 proof_expired', 'with a session that ends before');
tries('200', 'its twin, by its proof', mine(path => '/web'));
--- timeout: 40

=== TEST 8: the upstream gets the token as Bearer and no proof; or both, or neither, by option
--- engine
kb = dpop()
as_it_came = dpop { upstream_dpop_as_bearer = false }
hidden = dpop { hide_credentials = true }
hidden_too = dpop { hide_credentials = true, upstream_dpop_as_bearer = false }
without_ctx = dpop({ }, { store = "proofs", ctx = false })
optional = dpop { proof_of_possession_dpop = "optional" }
optional_without = dpop({ proof_of_possession_dpop = "optional" }, { store = "proofs", ctx = false })
optional_as_it_came = dpop { proof_of_possession_dpop = "optional", upstream_dpop_as_bearer = false }
off = engine { proof_of_possession_mtls = "optional" }
--- tls
underscores_in_headers on;
location / { access_by_lua_block { kb:access() } SHOW }
location /as_it_came { access_by_lua_block { as_it_came:access() } SHOW }
location /hidden { access_by_lua_block { hidden:access() } SHOW }
location /hidden_too { access_by_lua_block { hidden_too:access() } SHOW }
location /without_ctx { access_by_lua_block { without_ctx:access() } SHOW }
location /optional { access_by_lua_block { optional:access() } SHOW }
location /optional_without { access_by_lua_block { optional_without:access() } SHOW }
location /optional_as_it_came { access_by_lua_block { optional_as_it_came:access() } SHOW }
location /off { access_by_lua_block { off:access() } SHOW }
location /decide { access_by_lua_block {
    local result = optional:decide()
    ngx.ctx.headers = result.headers
} content_by_lua_block { ngx.print(tostring(ngx.ctx.headers.dpop), " ", (tostring(ngx.ctx.headers.authorization):match("^%w+"))) } }
--- run
sub got { my (%call) = @_; return call(%call)->{body} }
is(got(mine(h2 => $_)), 'got: Bearer', 'by default') for 0, 1;
my %one = mine();
is(got(%one, headers => [$one{headers}[0] =~ s/^DPoP/dPoP/r]), 'got: Bearer', 'however it is spelled');
is(got(mine(path => '/as_it_came')), 'got: DPoP,proof', 'as it came');
is(got(mine(path => '/hidden')), 'got: ', 'hidden');
is(got(mine(path => '/hidden_too')), 'got: ', 'hidden, not as Bearer');
is(got(mine(path => '/without_ctx')), 'got: Bearer', 'without ctx');
my @stray = (token => 'unbound', headers => ['DPoP: junk', 'dpop: more']);
is(got(path => '/optional', @stray), 'got: Bearer', 'a proof that nobody asked for does not go on');
is(got(path => '/optional_without', @stray), 'got: Bearer', 'nor without ctx');
is(got(path => '/optional_as_it_came', @stray), 'got: Bearer', 'not even where others go on');
is(got(path => '/off', @stray), 'got: Bearer,proof,proof', 'unless none are taken');
is(got(mine(path => '/decide')), 'false Bearer', 'decide() says so');
is(got(path => '/decide', @stray), 'false nil', 'and of the one that nobody asked for');
is(got(path => '/decide', token => 'unbound'), 'nil nil', 'and nothing of none');

=== TEST 9: 9449-9-a, 9449-11.3-a, 9449-4.3-10, 9449-8.1-a, 9449-8.2-a: a nonce is asked for, given, and good
--- engine
kb = dpop { dpop_use_nonce = true, dpop_nonce_secret = ("n"):rep(32) }
other = dpop { dpop_use_nonce = true, dpop_nonce_secret = ("o"):rep(32) }
--- tls
location / { access_by_lua_block { kb:access() } header_filter_by_lua_block { kb:header_filter() } SHOW }
location /other { access_by_lua_block { other:access() } header_filter_by_lua_block { other:header_filter() } SHOW }
--- run
my $response = tries('401 use_dpop_nonce proof_nonce_missing', 'without a nonce', mine());
is(header($response, 'WWW-Authenticate'), 'DPoP error="use_dpop_nonce", algs="ES256 PS256 EdDSA"', 'the challenge');
is(join(' ', header($response, 'Cache-Control')), 'no-store', 'nobody keeps it');
my @nonces = header($response, 'DPoP-Nonce');
is(scalar @nonces, 1, 'one nonce');
my $nonce = $nonces[0];
like($nonce, qr/^[\x21\x23-\x5b\x5d-\x7e]+$/, 'of the characters for it');
$response = tries('200', 'with it', mine(proof => { nonce => $nonce }));
is(join(' ', header($response, 'DPoP-Nonce'), header($response, 'Cache-Control')), '', 'it is fresh, and no other one comes');
tries('200', 'once more, with another proof', mine(h2 => 1, proof => { nonce => $nonce }));
tries('200', 'whatever the clock of the client', mine(proof => { nonce => $nonce, iat => $_ })) for -100000, 100000;
my %one = mine(proof => { nonce => $nonce });
tries('200', 'a proof', %one);
$response = tries('401 invalid_dpop_proof proof_replayed', 'again', %one);
is(header($response, 'DPoP-Nonce'), '', 'for which there is no nonce');
for (['another secret', challenged(path => '/other')], ['empty', ''], ['changed', $nonce =~ s/^(.)/$1 eq 'A' ? 'B' : 'A'/er], ['longer', "$nonce="], ['of a quarter', substr $nonce, 0, 12]) {
    my ($name, $text) = @$_;
    $response = tries('401 use_dpop_nonce proof_nonce_invalid', "$name", mine(proof => { nonce => $text }));
    is(scalar(my @given = header($response, 'DPoP-Nonce')), 1, "$name: the client gets another");
}
tries('401 invalid_dpop_proof proof_malformed', 'a number', mine(proof => { nonce => \'1' }));
$response = tries('401 invalid_token proof_key_mismatch', 'a thief', sent('thief', 'jkt:phone', proof => { nonce => $nonce }));
is(header($response, 'DPoP-Nonce'), '', 'a thief: gets no nonce');

=== TEST 10: 9449-8-b: a nonce that ages is replaced before it ends, and the upstream's own never comes through
--- engine
KEY = ("n"):rep(32)
kb = dpop { dpop_use_nonce = true, dpop_nonce_secret = KEY, dpop_proof_lifetime = 4 }
optional = dpop { proof_of_possession_dpop = "optional", dpop_use_nonce = true, dpop_nonce_secret = KEY }
no, err = require("resty.keybound").new(options { proof_of_possession_dpop = "strict", public_origin = "https://api.test", dpop_use_nonce = true, dpop_nonce_secret = KEY },
    { store = "proofs", ctx = false })
--- servers
server {
    listen $UPSTREAM;
    add_header DPoP-Nonce upstream;
    add_header Cache-Control max-age=60;
    location / { return 200 passed; }
    location /bad { return 400 passed; }
}
--- tls
location / { access_by_lua_block { kb:access() } header_filter_by_lua_block { kb:header_filter() } proxy_pass http://$UPSTREAM; }
location /optional { access_by_lua_block { optional:access() } header_filter_by_lua_block { optional:header_filter() } proxy_pass http://$UPSTREAM; }
location /without { access_by_lua_block { kb:access() } content_by_lua_block { ngx.print("passed") } }
location /plain { proxy_pass http://$UPSTREAM; }
location /err { content_by_lua_block { ngx.print(tostring(no), " ", err) } }
--- run
my $nonce = challenged();
my $response = tries('200', 'fresh', mine(proof => { nonce => $nonce }));
is(join(' ', header($response, 'DPoP-Nonce'), header($response, 'Cache-Control')), 'max-age=60', 'none of ours, and none of the upstream\'s');
select undef, undef, undef, 2.1;
for my $path ('/', '/without') {
    $response = tries('200', "$path: ageing", mine(path => $path, proof => { nonce => $nonce }));
    my @given = header($response, 'DPoP-Nonce');
    is(scalar @given, 1, "$path: another one");
    isnt($given[0], $nonce, "$path: it is new");
    isnt($given[0], 'upstream', "$path: and ours");
    is(join(' ', header($response, 'Cache-Control')), 'no-store', "$path: nobody keeps it");
    $response = tries('200', "$path: good", mine(path => $path, proof => { nonce => $given[0] }));
    is(join(' ', header($response, 'DPoP-Nonce')), '', "$path: for a while");
}
select undef, undef, undef, 3.1;
$response = tries('401 use_dpop_nonce proof_nonce_invalid', 'too old', mine(proof => { nonce => $nonce }));
$response = tries('200', 'and so on', mine(proof => { nonce => scalar header($response, 'DPoP-Nonce') }));
is(header(call(path => '/optional', token => 'unbound'), 'DPoP-Nonce'), '', 'nor with a token that needs none');
is(header(call(path => '/plain', token => 'unbound'), 'DPoP-Nonce'), 'upstream', 'elsewhere it comes');
is(call(path => '/err')->{body}, 'nil keybound.new: ctx: must not be false with dpop_use_nonce: header_filter() needs it', 'header_filter() needs what access() leaves');
--- timeout: 30

=== TEST 11: secrets of nonces are rotated without a client noticing
--- engine
old, new = ("o"):rep(32), ("n"):rep(32)
before = dpop { dpop_use_nonce = true, dpop_nonce_secret = old }
first = dpop { dpop_use_nonce = true, dpop_nonce_secret = old, dpop_nonce_previous_secrets = { new } }
second = dpop { dpop_use_nonce = true, dpop_nonce_secret = new, dpop_nonce_previous_secrets = { old } }
after = dpop { dpop_use_nonce = true, dpop_nonce_secret = new }
--- tls
location /before { access_by_lua_block { before:access() } SHOW }
location /first { access_by_lua_block { first:access() } SHOW }
location /second { access_by_lua_block { second:access() } SHOW }
location /after { access_by_lua_block { after:access() } SHOW }
--- run
my %nonce = map { $_ => challenged(path => "/$_") } qw(before first second after);
for my $from (qw(before first second after)) {
    for my $to (qw(before first second after)) {
        my $is_good = $from =~ /before|first/ ? $to ne 'after' : $to ne 'before';
        tries($is_good ? '200' : '401 use_dpop_nonce proof_nonce_invalid', "of $from at $to", mine(path => "/$to", proof => { nonce => $nonce{$from} }));
    }
}

=== TEST 12: with logins, too: a request with a proof is one, and one without is none
--- engine
kb = dpop { auth_methods = { "session", "bearer" }, session_secret = ("s"):rep(32), proof_of_possession_mtls = "optional", upstream_headers_claims = { "sub" },
    upstream_headers_names = { "X-User" } }
--- schemes: DPoP
--- tls
location / { access_by_lua_block { kb:access() } SHOW }
--- run
my %one = mine(headers => ['Cookie: a=b', 'Cookie: c=d']);
is(tries('200', 'a proof', %one)->{body}, 'got: Bearer', 'the upstream');
tries('401 invalid_dpop_proof proof_replayed', 'again', %one);
tries('401 invalid_dpop_proof proof_repeated', 'two', mine(headers => ['DPoP: a']));
tries('401 - no_token', 'nothing', headers => ['Cookie: a=b']);
tries('401 invalid_token dpop_scheme_required', 'as Bearer', token => 'jkt:phone');
tries('200', 'another one', mine());
