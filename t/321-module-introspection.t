# Introspection by the nginx module, through locations of nginx: by a certificate at a real authorization server, and who the gateway is to
# whom. What is remembered is held to each connection.
use Module;
use Test::Nginx::Socket 'no_plan';

worker_connections(1024);

sub forget { as_control('/log/clear', {}, @_) }
sub revoke { as_request('/token/revocation', { token => $_[0] }, client => 'any', cert => 'client') }

# who(SERVER): client_id, subject of the certificate and port of each introspection, each once
sub who {
    my %seen = map { join(' ', $_->{client_id} // '-', $_->{certificate} ? $_->{certificate}{subject} =~ s/^CN=//r : '-', $_->{port}) => 1 } introspections(@_);
    return join ', ', sort keys %seen;
}
my $unique = 0;
sub fresh { return { text => 'opaque-' . ++$unique . '-' . int rand 1e9 } }
sub active { return (active => JSON::PP::true, aud => 'https://api.test', exp => time + 600 | 0, cnf => { 'x5t#S256' => thumbprint('client') }, @_) }

add_block_preprocessor(sub {
    my ($block) = @_;
    my $http = $block->http_config // return;
    $block->set_value(http_config => $http =~ s/\bMTLS\b/as_start()->{mtls_port}/ger);
});

run_tests();

__DATA__

=== TEST 1: 8705-2-a, 8705-3.2, 7662-2.1-a: over mutual TLS: who asked, where, and what was in it; TLS 1.2, 1.3 and HTTP/2
--- engine
kb: tls
--- run
for my $how ({}, { tls => '1.2' }, { tls => '1.3' }, { h2 => 1 }) {
    my $name = join '', map { "$_ $how->{$_}" } keys %$how;
    define(opaque => opaque());
    named_token('opaque');
    forget();
    passes({ %$how, cert => 'client', token => 'opaque' }, "$name: own certificate");
    refuses({ %$how, cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', "$name: of a thief");
    refuses({ %$how, token => 'opaque' }, '401 invalid_token certificate_missing', "$name: none");
    my @all = introspections();
    is(scalar @all, 1, "$name: asked once");
    is(who(), 'gateway gateway mtls', "$name: by whom");
    my $seen = $all[0];
    is($seen->{certificate}{'x5t#S256'}, thumbprint('gateway'), "$name: the certificate");
    is(join(' ', $seen->{method}, json($seen->{query_parameters}), $seen->{status}, $seen->{token_type_hint}, $seen->{headers}{'content-type'}, join ',', sort @{ $seen->{body_parameters} }),
        'POST [] 200 access_token application/x-www-form-urlencoded client_id,token,token_type_hint', "$name: how");
}
--- no_error_log
[error]
[alert]

=== TEST 2: a POST of the client's: its body goes to the upstream and keybound's to the authorization server; nothing is mixed
--- engine
kb: tls
--- tls
client_max_body_size 30m;
location /body { proxy_http_version 1.1; proxy_set_header Connection close; proxy_pass http://$PLAIN; }
--- run
peer_script({ '*' => { body => 'passed' } }, 'plain');
for my $h2 (0, 1) {
    for my $data ('secret=1', 'x' x 200_000, undef) {
        define(opaque => opaque());
        named_token('opaque');
        forget();
        passes({ cert => 'client', token => 'opaque', path => '/body?secret=1', h2 => $h2, defined $data ? (method => 'POST', data => $data, headers => ['Content-Type: text/secret', 'Cookie: secret=1']) : () }, 'passes');
        my ($last) = sort { $b->{time} <=> $a->{time} } map { @{ $_->{requests} } } @{ peer_log('plain')->{log} };
        is(join(' ', $last->{method}, $last->{path}, length $last->{body}), (defined $data ? 'POST' : 'GET') . ' /body?secret=1 ' . length($data // ''), 'the upstream');
        ok($last->{body} eq ($data // ''), 'byte by byte');
        is(join(',', sort map { @{ $_->{body_parameters} } } introspections()), 'client_id,token,token_type_hint', 'the authorization server');
        unlike(json(as_log()), qr/secret/, 'and nothing of the client');
    }
}
--- no_error_log
[error]
[alert]

=== TEST 3: with a secret: no certificate is shown, and the secret is in a header
--- engine
kb: basic
post: basic { "client_id": "gateway-post", "client_auth": "client_secret_post", "client_secret": "gateway-post-secret" }
--- run
for (['/', 'gateway-basic - main', 'token,token_type_hint', 'Basic'], ['/post', 'gateway-post - main', 'client_id,client_secret,token,token_type_hint', undef]) {
    my ($path, $who, $body, $scheme) = @$_;
    define(opaque => opaque());
    named_token('opaque');
    forget();
    passes({ cert => 'client', token => 'opaque', path => $path }, "$path: own certificate");
    refuses({ cert => 'thief', token => 'opaque', path => $path }, '401 invalid_token certificate_mismatch', "$path: of a thief");
    is(who(), $who, "$path: by whom");
    my ($seen) = introspections();
    is(join(',', sort @{ $seen->{body_parameters} }), $body, "$path: the body");
    is($seen->{headers}{authorization}, $scheme, "$path: the header");
}
--- no_error_log
[error]
[alert]

=== TEST 4: 8705-2-c: a server that refuses the gateway says nothing about the token: the wrong certificate, an unknown client, a wrong secret
--- engine
kb: tls
other: tls
unknown: tls { "client_id": "gateway-unknown" }
wrong: basic { "client_secret": "wrong" }
--- tls
location /other { keybound_config $KB/other.json; keybound_fetch /_as; keybound_fetch /_other gateway; $PROXY; }
location = /_other { $FETCH proxy_ssl_certificate $PKI/gateway-b.crt; proxy_ssl_certificate_key $PKI/gateway-b.key; }
--- run
define(opaque => opaque());
for my $name (qw(other unknown wrong)) {
    my $response = refuses({ cert => 'client', token => 'opaque', path => "/$name" }, '503 - client_refused', $name);
    like(scalar header($response, 'Retry-After'), qr/^[1-9]\d*$/, "$name: Retry-After");
}
passes({ cert => 'client', token => 'opaque' }, 'the right one');
--- no_error_log
[alert]

=== TEST 5: unbound opaque tokens: strict, optional and off, by the directive
--- engine
kb: tls
--- tls
location /optional { keybound_mode optional; $PROXY; }
location /off { keybound_mode off; $PROXY; }
--- tokens eval
+{ bound => { as => 'any', cert => 'client', resource => 'opaque' }, free => { as => 'unbound', cert => '-', resource => 'opaque' } }
--- calls
client free  -> 401 invalid_token token_unbound
client bound -> 200
client free  path=/optional -> 200
-      free  path=/optional -> 200
thief  bound path=/optional -> 401 invalid_token certificate_mismatch
-      bound path=/optional -> 401 invalid_token certificate_missing
thief  bound path=/off -> 200
--- no_error_log
[error]

=== TEST 6: the first one who comes is the thief: what was asked for him is not his
--- engine
kb: tls
--- run
define(opaque => opaque());
named_token('opaque');
forget();
refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'a thief first');
refuses({ token => 'opaque' }, '401 invalid_token certificate_missing', 'then nobody');
passes({ cert => 'client', token => 'opaque' }, 'then the owner');
is(scalar(introspections()), 1, 'asked once');
--- no_error_log
[error]
[alert]

=== TEST 7: 7662-4-c: a revoked token passes until introspection_cache_ttl, and then no more
--- engine
kb: tls { "introspection_cache_ttl": 1 }
long: tls
--- run
define(opaque => opaque());
passes({ cert => 'client', token => 'opaque', path => $_ }, "$_: before") for '/', '/long';
revoke(named_token('opaque'));
pause(1.6);
refuses({ cert => 'client', token => 'opaque' }, '401 invalid_token token_inactive', 'revoked');
passes({ cert => 'client', token => 'opaque', path => '/long' }, 'a longer lifetime');
define(bad => { text => 'unknown-to-the-server' });
refuses({ cert => 'client', token => 'bad' }, '401 invalid_token token_inactive', 'unknown');
--- no_error_log
[error]
[alert]

=== TEST 8: single flight: many with one opaque token: asked once; with many tokens: each is asked about once
--- engine
kb: tls
--- run
define(opaque => opaque(), map { ("t$_" => opaque()) } 1 .. 8);
named_token($_) for 'opaque', map { "t$_" } 1 .. 8;
# The metadata is there before.
call(cert => 'client', authorization => 'Bearer first');
forget();
as_control('/hang', { ms => 300, path => '/token/introspection' });
my @started = map { my $cert = $_; Keybound::_many(50, { cert => $cert, token => 'opaque', h2 => 1 }, '--parallel', '--parallel-max', 50) } qw(client thief client thief);
is(json([ landed(@started) ]), '[{"200":50},{"401":50},{"200":50},{"401":50}]', 'each by its certificate');
is(scalar(introspections()), 1, 'asked once');
forget();
@started = map { Keybound::_many(20, { cert => 'client', token => "t$_", h2 => 1 }, '--parallel', '--parallel-max', 20) } 1 .. 8;
is(json([ landed(@started) ]), '[' . join(',', ('{"200":20}') x 8) . ']', 'all pass');
is(scalar(introspections()), 8, 'once for each');
as_control('/hang', { ms => 0 });
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 9: errors and lies of the server are none of the token's: 503, and nothing passes
--- engine
kb: peer { "introspection_cache_ttl": 0, "introspection_cache_ttl_neg": 0, "timeout": 800 }
--- run
my $try = sub {
    my ($name, $expected, $answer) = @_;
    peer_script({ '/introspect' => $answer });
    define(opaque => fresh());
    refuses({ cert => 'client', token => 'opaque' }, $expected, $name);
};
my $unknown = '503 - introspection_unavailable';
my %active = active();
$try->('as it must be', 200, { json => \%active });
$try->("status $_", $unknown, { json => \%active, status => $_ }) for 201, 204, 302, 404, 429, 500, 503;
$try->("status $_", $unknown, { json => \%active, status => $_ }) for 206;
$try->('no JSON', $unknown, { body => 'active=true', headers => { 'Content-Type' => 'application/json' } });
$try->('nothing', $unknown, { body => '', headers => { 'Content-Type' => 'application/json' } });
$try->('HTML', $unknown, { body => '<html>', headers => { 'Content-Type' => 'text/html' } });
$try->('no active', $unknown, { json => { map { $_ eq 'active' ? () : ($_ => $active{$_}) } keys %active } });
$try->('active is a string', $unknown, { json => { %active, active => 'true' } });
$try->('inactive', '401 invalid_token token_inactive', { json => { %active, active => JSON::PP::false } });
$try->('of another', '401 invalid_token certificate_mismatch', { json => { active(cnf => { 'x5t#S256' => thumbprint('thief') }) } });
$try->('cut', $unknown, [{ send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" . json(\%active) }, { close => 'abrupt' }]);
$try->('cut in a chunk', $unknown, [{ send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" . json(\%active) }, { close => JSON::PP::true }]);
$try->('endless chunks', $unknown, { json => \%active, chunked => JSON::PP::true, endless => JSON::PP::true });
$try->('compressed, unasked', $unknown, { json => \%active, gzip => JSON::PP::true });
$try->('silence', $unknown, { hang => JSON::PP::true });
$try->('the end', $unknown, { close => JSON::PP::true });
$try->('a reset', $unknown, { reset => JSON::PP::true });
$try->('no HTTP', $unknown, [{ send => "SSH-2.0-OpenSSH\r\n" }, { close => JSON::PP::true }]);
$try->('too large', $unknown, { json => \%active, pad => 2 });
$try->('headers that are too large', $unknown, { json => \%active, headers => { 'X-Large' => 'x' x 100_000 } });
$try->('chunks', 200, { json => \%active, chunked => JSON::PP::true });
$try->('as it must be, again', 200, { json => \%active });
--- timeout: 60
--- no_error_log
[alert]
exited on signal

=== TEST 10: the headers of the file go, and what the peer sees is that and no more; cookies and challenges of its answer go nowhere
--- engine
kb: peer { "introspection_headers_names": ["X-Tenant"], "introspection_headers_values": ["one"], "introspection_post_args_names": ["a"], "introspection_post_args_values": ["b&c"] }
--- run
peer_script({ '/introspect' => { json => { active() }, headers => { 'Set-Cookie' => 'peer=1', 'X-Peer' => '1', 'Refresh' => '1', 'WWW-Authenticate' => 'Basic' } } });
peer_control('/log/clear');
define(opaque => fresh());
for my $h2 (0, 1) {
    my $response = passes({ cert => 'client', token => 'opaque', h2 => $h2, headers => ['X-Tenant: two', 'X-More: 1', 'Cookie: a=b'] }, 'passes');
    is(join('|', map { header($response, $_) } 'Set-Cookie', 'X-Peer', 'Refresh', 'WWW-Authenticate'), '', 'the client sees nothing of it');
}
my ($seen) = map { @{ $_->{requests} } } @{ peer_log()->{log} };
is(join(' ', sort keys %{ $seen->{headers} }), 'accept authorization content-length content-type host x-tenant', 'the headers');
is($seen->{headers}{'x-tenant'}, 'one', 'that of the file');
like($seen->{body}, qr/^(?=.*\ba=b%26c\b)(?=.*\btoken=opaque-)/, 'the parameters of the file');
is(scalar(map { @{ $_->{requests} } } @{ peer_log()->{log} }), 1, 'one request');
--- no_error_log
[error]
[alert]

=== TEST 11: an aborted client during an introspection: nothing passes, others are answered
--- engine
kb: tls
--- run
define(opaque => opaque());
named_token('opaque');
call(cert => 'client', authorization => 'Bearer first');
forget();
as_control('/hang', { ms => 900, path => '/token/introspection' });
my @gone = map { Keybound::start_command('', Keybound::_curl_words(cert => 'client', token => 'opaque', h2 => $_ % 2, $_ < 4 ? () : (method => 'POST', data => 'x' x 100_000)), '--max-time', '0.3') } 1 .. 6;
pause(0.1);
my @stay = map { Keybound::start_command('', Keybound::_curl_words(cert => $_, token => 'opaque'), '-i') } qw(client thief);
is(join(' ', map { (Keybound::finish_command($_))[0] } @gone), '28 28 28 28 28 28', 'gone');
is(join(' ', map { Keybound::response((Keybound::finish_command($_))[1])->{status} // '-' } @stay), '200 401', 'the others');
as_control('/hang', { ms => 0 });
is(scalar(introspections()), 1, 'by one introspection');
passes({ cert => 'client', token => 'opaque' }, 'afterwards');
--- no_error_log
[alert]
exited on signal

=== TEST 12: two servers, two certificates, many requests in turn: each saw its own only, and no connection is shared
--- engine
kb:
one: tls { "introspection_cache_ttl": 0 }
two: tls { "introspection_cache_ttl": 0, "issuer": "$AS2", "client_id": "gateway-b", "tls_client_auth_cert_id": "gateway-b",
    "client_certificates": { "gateway-b": { "certificate": "$PKI/gateway-b.crt", "private_key": "$PKI/gateway-b.key" } } }
--- fetch
/_as
/_gateway gateway
--- tls
location /two { keybound_config $KB/two.json; keybound_fetch /_as2; keybound_fetch /_gateway_b gateway-b; $PROXY; }
location = /_as2 { $FETCH_OF_BOTH }
location = /_gateway_b { $FETCH_OF_BOTH proxy_ssl_certificate $PKI/gateway-b.crt; proxy_ssl_certificate_key $PKI/gateway-b.key; }
--- run
define(one => opaque(), two => opaque(server => 'as2'));
named_token($_) for qw(one two);
forget($_) for qw(as as2);
my @calls = map { my $name = $_; map { { cert => $_, token => $name, path => "/$name", keep => 1 } } qw(client thief) } qw(one two);
is(json([ at_once(40, @calls, @calls) ]), '[' . join(',', ('{"200":40},{"401":40}') x 4) . ']', 'each by its certificate');
is(who('as'), 'gateway gateway mtls', 'the one');
is(who('as2'), 'gateway-b gateway-b mtls', 'the other');
cmp_ok(scalar(introspections($_)), '>=', 20, "$_ was asked") for qw(as as2);
refuses({ cert => 'client', token => 'one', path => '/two' }, '401 invalid_token token_inactive', 'a token of one is none at the other');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 13: two identities at one address, over connections that are kept: each connection has one
--- http_config
upstream as { server 127.0.0.1:MTLS; keepalive 8; }
upstream as_gateway { server 127.0.0.1:MTLS; keepalive 8; }
upstream as_gateway_b { server 127.0.0.1:MTLS; keepalive 8; }
--- engine
kb:
one: tls { "introspection_cache_ttl": 0, "mtls_introspection_endpoint": "$AS_MTLS/token/introspection" }
two: tls { "introspection_cache_ttl": 0, "mtls_introspection_endpoint": "$AS_MTLS/token/introspection", "client_id": "gateway-b", "tls_client_auth_cert_id": "gateway-b",
    "client_certificates": { "gateway-b": { "certificate": "$PKI/gateway-b.crt", "private_key": "$PKI/gateway-b.key" } } }
none: basic { "introspection_cache_ttl": 0, "introspection_endpoint": "$AS_MTLS/token/introspection" }
--- fetch
none
--- tls
proxy_http_version 1.1;
proxy_ssl_verify on;
proxy_ssl_trusted_certificate $PKI/ca.crt;
proxy_ssl_name localhost;
proxy_ssl_session_reuse off;
keybound_fetch /_as;
keybound_fetch /_gateway gateway;
keybound_fetch /_gateway_b gateway-b;
location = /_as { internal; proxy_pass https://as$keybound_fetch_uri; proxy_set_header Connection ""; proxy_set_header Host $keybound_fetch_host; }
location = /_gateway { internal; proxy_pass https://as_gateway$keybound_fetch_uri; proxy_set_header Connection ""; proxy_set_header Host $keybound_fetch_host;
    proxy_ssl_certificate $PKI/gateway.crt; proxy_ssl_certificate_key $PKI/gateway.key; }
location = /_gateway_b { internal; proxy_pass https://as_gateway_b$keybound_fetch_uri; proxy_set_header Connection ""; proxy_set_header Host $keybound_fetch_host;
    proxy_ssl_certificate $PKI/gateway-b.crt; proxy_ssl_certificate_key $PKI/gateway-b.key; }
--- run
define(opaque => opaque());
named_token('opaque');
forget();
is(json([ at_once(30, (map { { cert => 'client', token => 'opaque', path => "/$_", keep => 1 } } qw(one two none)) x 2) ]), '[' . join(',', ('{"200":30}') x 6) . ']', 'all pass');
is(who(), 'gateway gateway mtls, gateway-b gateway-b mtls, gateway-basic - mtls', 'each with its own');
my %by;
$by{ $_->{connection} }{ $_->{certificate} ? $_->{certificate}{subject} : '-' } = 1 for introspections();
is(scalar(grep { keys %$_ != 1 } values %by), 0, 'one identity on each connection');
cmp_ok(scalar keys %by, '<', 30, 'connections are kept: ' . keys %by);
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 14: a location that does not verify the server is not used, unless the file says so; and says it in the log
--- engine
kb: basic
unverified: basic { "ssl_verify": false }
--- fetch
none
--- tls
keybound_fetch /_as;
location = /_as { internal; proxy_pass https://$fetch_to$keybound_fetch_uri; proxy_set_header Host $keybound_fetch_host; }
--- run
define(opaque => opaque());
named_token('opaque');
forget();
log_mark();
my $response = call(cert => 'client', token => 'opaque');
is(join(' ', $response->{status}, reasons()), '503 503 metadata_unavailable', 'not used');
is(scalar @{ as_log() }, 0, 'nothing is sent');
like(whole_log(), qr/\[error\].*proxy_ssl_verify/, 'the log says why');
passes({ cert => 'client', token => 'opaque', path => '/unverified' }, 'ssl_verify: false');
--- no_error_log
[alert]

=== TEST 15: a location that is no proxy, or goes on without TLS, is not used
--- engine
kb: basic
plain: peer
file: peer
gone: peer
--- tls
location /plain { keybound_config $KB/plain.json; keybound_fetch /_plain; $PROXY; }
location /file { keybound_config $KB/file.json; keybound_fetch /_file; $PROXY; }
location /gone { keybound_config $KB/gone.json; keybound_fetch /_gone; $PROXY; }
location = /_plain { internal; proxy_pass http://$PLAIN; proxy_ssl_verify on; proxy_ssl_trusted_certificate $PKI/ca.crt; }
location = /_file { internal; alias $RUN/metadata.json; }
--- init
Keybound::write_file("$Keybound::RUN/metadata.json", Keybound::json({ active => JSON::PP::true }))
--- run
define(opaque => opaque());
peer_script({ '*' => { json => { active() } } }, 'plain');
peer_control('/log/clear', {}, 'plain');
for my $name (qw(plain file gone)) {
    log_mark();
    my $response = call(cert => 'client', token => 'opaque', path => "/$name");
    like(join(' ', $response->{status}, reasons()), qr/^503 503 introspection_unavailable$/, $name);
}
is(scalar(map { @{ $_->{requests} } } @{ peer_log('plain')->{log} }), 0, 'no secret goes out in the clear');
passes({ cert => 'client', token => 'opaque' }, 'their twin');
--- no_error_log
[alert]

=== TEST 16: metadata_cert_id: keys by one certificate, introspection by another, each in its location
--- engine
kb: tls { "metadata_cert_id": "gateway-b", "client_certificates": { "gateway": { "certificate": "$PKI/gateway.crt", "private_key": "$PKI/gateway.key" },
    "gateway-b": { "certificate": "$PKI/gateway-b.crt", "private_key": "$PKI/gateway-b.key" } } }
--- fetch
/_as
/_gateway gateway
/_gateway-b gateway-b
--- run
define(opaque => opaque());
named_token($_) for 'as:client', 'opaque';
forget();
for my $token ('as:client', 'opaque') {
    passes({ cert => 'client', token => $token }, "$token: own certificate");
    refuses({ cert => 'thief', token => $token }, '401 invalid_token certificate_mismatch', "$token: of a thief");
}
my %who;
$who{ $_->{path} }{ $_->{certificate} ? $_->{certificate}{subject} : '-' } = 1 for @{ as_log() };
is(json({ map { $_ => join ',', keys %{ $who{$_} } } keys %who }), '{"/.well-known/openid-configuration":"CN=gateway-b","/jwks":"CN=gateway-b","/token/introspection":"CN=gateway"}', 'who asked where');
--- no_error_log
[error]
[alert]

=== TEST 17: an answer that leads the fetch elsewhere, by X-Accel-Redirect or by an error_page of the location: what keybound sent is sent on to nobody
--- engine
kb: peer
paged: peer
--- tls
location /leak { proxy_pass http://$PLAIN; }
location /paged { keybound_config $KB/paged.json; keybound_fetch /_paged; $PROXY; }
location = /_paged { $FETCH proxy_intercept_errors on; error_page 500 = /leak; }
--- run
peer_script({ '*' => { json => { active() } } }, 'plain');
peer_control('/log/clear', {}, 'plain');
my $came = sub { return scalar map { @{ $_->{requests} } } @{ peer_log('plain')->{log} } };
for (['/', { json => { active() }, headers => { 'X-Accel-Redirect' => '/leak' } }], ['/paged', { status => 500, json => { active() } }]) {
    my ($path, $answer) = @$_;
    peer_script({ '/introspect' => $answer });
    define(opaque => fresh());
    refuses({ cert => 'client', token => 'opaque', path => $path }, '503 - introspection_unavailable', $path);
    is($came->(), 0, "$path: nothing is sent on");
    peer_script({ '/introspect' => { json => { active() } } });
    define(opaque => fresh());
    passes({ cert => 'client', token => 'opaque', path => $path }, "$path: its twin");
}
--- no_error_log
[alert]
exited on signal

=== TEST 18: $keybound_fetch_certificate: the files of the client certificate, as the engine's own file names them
--- engine
kb: tls
--- fetch
/_as
--- tls
keybound_fetch /_files gateway;
location = /_files { $FETCH proxy_ssl_certificate $keybound_fetch_certificate; proxy_ssl_certificate_key $keybound_fetch_certificate_key; }
--- run
define(opaque => opaque());
named_token('opaque');
forget();
passes({ cert => 'client', token => 'opaque' }, 'own certificate');
refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'of a thief');
is(who(), 'gateway gateway mtls', 'by whom');
--- no_error_log
[error]
[alert]
