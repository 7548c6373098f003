# The directives of the nginx module at work: what each changes, and what http, server and location say, inherit and override.
use Module;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: keybound on, off and report: refuses, does not look, and lets through what it would refuse
--- tls
location /off { keybound off; $PROXY; }
location /report { keybound report; $PROXY; }
location /on { keybound on; $PROXY; }
--- calls
client bound -> 200
thief  bound -> 401 invalid_token certificate_mismatch
thief  bound path=/on -> 401 invalid_token certificate_mismatch
thief  bound path=/off -> 200
-      -     path=/off -> 200
thief  bound path=/report -> 200
-      -     path=/report -> 200
--- no_error_log
[error]

=== TEST 2: off is the default
--- tls_only
ssl_verify_client optional_no_ca;
keybound_config $KB/kb.json;
location / { $PROXY; }
location /on { keybound on; $PROXY; }
--- calls
- - -> 200
- - path=/on -> 401 - no_token
--- no_error_log
[error]

=== TEST 3: what http says holds in every server and location, until one says otherwise
--- http_config
keybound on;
keybound_config $KB/kb.json;
keybound_mode optional;
keybound_scope read;
keybound_realm http;
--- engine
kb:
--- tls_only
ssl_verify_client optional_no_ca;
keybound_realm server;
location / { $PROXY; }
location /strict { keybound_mode strict; $PROXY; }
location /write { keybound_scope write; $PROXY; location /write/deep { keybound_scope read; $PROXY; } }
location /nested { $PROXY; location /nested/off { keybound off; $PROXY; } }
location /realm { keybound_realm location; $PROXY; }
--- servers
server { listen $UPSTREAM; keybound off; location / { return 200 "passed\n"; } }
--- config
location / { $PROXY; }
--- run
for (['/', 'unbound', 200], ['/strict', 'unbound', '401 token_unbound'], ['/strict', 'bound', 200], ['/write', 'unbound', '403 insufficient_scope'], ['/write/deep', 'unbound', 200],
     ['/nested', '-', '401 no_token'], ['/nested/off', '-', 200]) {
    my ($path, $token, $expected) = @$_;
    log_mark();
    my $response = call(cert => 'client', token => $token, path => $path);
    is(join(' ', $response->{status}, map { /(\w+)$/ } reasons()), $expected, "$path, $token");
}
like(scalar header(call(path => '/'), 'WWW-Authenticate'), qr/realm="server"/, 'of the server');
like(scalar header(call(path => '/realm'), 'WWW-Authenticate'), qr/realm="location"/, 'of the location');
log_mark();
my $response = call(plain => 1);
is(join(' ', $response->{status}, reasons()), '401 401 no_token', 'another server');
like(scalar header($response, 'WWW-Authenticate'), qr/realm="http"/, 'of http');
--- no_error_log
[error]

=== TEST 4: keybound_mode takes the place of the file's, both ways
--- engine
kb: { "proof_of_possession_mtls": "off" }
--- tls
location /strict { keybound_mode strict; $PROXY; }
location /optional { keybound_mode optional; $PROXY; }
location /off { keybound_mode off; $PROXY; }
--- calls
thief bound -> 200
thief bound path=/strict -> 401 invalid_token certificate_mismatch
thief bound path=/optional -> 401 invalid_token certificate_mismatch
thief bound path=/off -> 200
thief unbound path=/strict -> 401 invalid_token token_unbound
thief unbound path=/optional -> 200
--- no_error_log
[error]

=== TEST 5: keybound_scope: several arguments are alternatives, the words of one must all be there
--- engine
kb: { "scopes_required": ["nobody has this"] }
--- tls
location /read { keybound_scope read; $PROXY; }
location /either { keybound_scope admin read; $PROXY; }
location /both { keybound_scope 'read write'; $PROXY; }
location /mixed { keybound_scope admin 'read write'; $PROXY; }
--- tokens eval
+{ both => { for => 'client', claims => { scope => 'write read' } }, admin => { for => 'client', claims => { scope => 'admin' } } }
--- calls
client bound -> 403 insufficient_scope insufficient_scope
client bound path=/read -> 200
client admin path=/read -> 403 insufficient_scope insufficient_scope
client bound path=/either -> 200
client admin path=/either -> 200
client bound path=/both -> 403 insufficient_scope insufficient_scope
client both  path=/both -> 200
client bound path=/mixed -> 403 insufficient_scope insufficient_scope
client both  path=/mixed -> 200
client admin path=/mixed -> 200
thief  both  path=/both -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 6: keybound_audience takes the place of the file's
--- tls
location /other { keybound_audience https://other.test; $PROXY; }
location /either { keybound_audience https://other.test https://api.test; $PROXY; }
location /both { keybound_audience 'https://other.test https://api.test'; $PROXY; }
--- tokens eval
+{ both => { for => 'client', claims => { aud => ['https://api.test', 'https://other.test'] } } }
--- calls
client bound -> 200
client other_audience -> 401 invalid_token audience_mismatch
client bound path=/other -> 401 invalid_token audience_mismatch
client other_audience path=/other -> 200
client bound path=/either -> 200
client other_audience path=/either -> 200
client bound path=/both -> 401 invalid_token audience_mismatch
client both path=/both -> 200
--- no_error_log
[error]

=== TEST 7: keybound_realm is that of the challenge, in place of the file's
--- engine
kb: { "realm": "of the file" }
--- tls
location /own { keybound_realm "of the place"; $PROXY; }
--- run
is(scalar header(call(), 'WWW-Authenticate'), 'Bearer realm="of the file"', 'of the file');
is(scalar header(call(path => '/own'), 'WWW-Authenticate'), 'Bearer realm="of the place"', 'of the directive');
is(scalar header(call(cert => 'thief', token => 'bound', path => '/own'), 'WWW-Authenticate'), 'Bearer realm="of the place", error="invalid_token"', 'with an error');
--- no_error_log
[error]

=== TEST 8: another keybound_config of a location: its options, and the settings that it inherits
--- engine
kb: { "realm": "one" }
other: { "realm": "two", "audience_required": ["https://other.test"] }
--- tls
location /other { keybound_config $KB/other.json; $PROXY; }
location /scope { keybound_scope write; $PROXY; location /scope/other { keybound_config $KB/other.json; $PROXY; } }
--- tokens eval
+{ write => { for => 'client', claims => { aud => 'https://other.test', scope => 'write' } } }
--- run
for (['/', 'bound', 200], ['/', 'other_audience', '401 audience_mismatch'], ['/other', 'other_audience', 200], ['/other', 'bound', '401 audience_mismatch'],
     ['/scope', 'bound', '403 insufficient_scope'], ['/scope/other', 'other_audience', '403 insufficient_scope'], ['/scope/other', 'write', 200]) {
    my ($path, $token, $expected) = @$_;
    log_mark();
    is(join(' ', call(cert => 'client', token => $token, path => $path)->{status}, map { /(\w+)$/ } reasons()), $expected, "$path, $token");
}
like(scalar header(call(path => '/other'), 'WWW-Authenticate'), qr/realm="two"/, 'its realm');
--- no_error_log
[error]

=== TEST 9: two servers with different policies, on one port: each by its name
--- engine
kb:
second: { "audience_required": ["https://other.test"], "realm": "second" }
--- tls
location /second { return 404; }
--- servers
server {
    listen $TLS ssl http2;
    server_name b.test;
    ssl_certificate $PKI/server.crt;
    ssl_certificate_key $PKI/server.key;
    ssl_verify_client optional_no_ca;
    keybound on;
    keybound_config $KB/second.json;
    keybound_mode optional;
    location / { $PROXY; }
}
--- tokens eval
+{ free => { claims => { aud => 'https://other.test' } } }
--- run
my @words = ('--insecure');
for my $h2 (0, 1) {
    for (['api.test', 'client', 'bound', 200], ['api.test', 'client', 'other_audience', '401 audience_mismatch'], ['api.test', 'client', 'unbound', '401 token_unbound'],
         ['b.test', 'client', 'bound', '401 audience_mismatch'], ['b.test', 'client', 'other_audience', 200], ['b.test', '-', 'free', 200],
         ['b.test', 'thief', 'other_audience', '401 certificate_mismatch'], ['api.test', 'thief', 'bound', '401 certificate_mismatch']) {
        my ($host, $cert, $token, $expected) = @$_;
        log_mark();
        my ($curl, @rest) = Keybound::_curl_words(cert => $cert, token => $token, host => $host, h2 => $h2);
        my (undef, $out) = command('', $curl, @rest, @words, '-i');
        is(join(' ', Keybound::response($out)->{status}, map { /(\w+)$/ } reasons()), $expected, "$host, $cert, $token" . ($h2 ? ', HTTP/2' : ''));
    }
}
--- no_error_log
[error]

=== TEST 10: two servers with one file and one set of settings decide alike, and remember in common or not: no matter
--- tls
location /a { $PROXY; }
location /b { keybound_mode strict; $PROXY; }
--- calls
client bound path=/a -> 200
client bound path=/b -> 200
thief  bound path=/a -> 401 invalid_token certificate_mismatch
thief  bound path=/b -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]
