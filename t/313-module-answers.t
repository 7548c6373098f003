# How the nginx module refuses: the answer to the client, and the line in the log.
use Module;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: 6750-3.1-a, 8705-3-c: statuses, challenges, bodies, lengths and Cache-Control, of each kind of refusal
--- engine
kb: { "scopes_required": ["read"] }
--- tokens eval
+{ poor => { for => 'client', claims => { scope => 'other' } } }
--- calls
client bound -> 200
client -     -> 401 - no_token
thief  bound -> 401 invalid_token certificate_mismatch
client junk  -> 401 invalid_token token_not_jwt
client poor  -> 403 insufficient_scope insufficient_scope
client bound path=/?access_token=x -> 400 invalid_request several_tokens
client - authorization=Bearer -> 400 invalid_request malformed_authorization
client - authorization="Basic eDp5" -> 401 - no_token
client - h2=1 -> 401 - no_token
thief  bound h2=1 -> 401 invalid_token certificate_mismatch
client poor  h2=1 -> 403 insufficient_scope insufficient_scope
--- no_error_log
[error]

=== TEST 2: HEAD has the head of GET and no body; every method is decided about
--- run
my %heads;
for my $method ('GET', 'HEAD') {
    my $response = call(cert => 'thief', token => 'bound', method => $method);
    $heads{$method} = join '|', $response->{status}, map { "$_->[0]: $_->[1]" } grep { $_->[0] ne 'Date' } @{ $response->{headers} };
    is($response->{body}, $method eq 'GET' ? '{"message":"Unauthorized"}' : '', "body of $method");
}
is($heads{HEAD}, $heads{GET}, 'one head');
like($heads{GET}, qr/Content-Length: 26\b/, 'with the length');
for my $method (qw(GET HEAD OPTIONS PUT PATCH DELETE PURGE POST)) {
    passes({ cert => 'client', token => 'bound', method => $method, $method =~ /^P/ ? (data => 'x') : () }, "$method, own certificate");
    refuses({ cert => 'thief', token => 'bound', method => $method, $method =~ /^P/ ? (data => 'x') : () }, '401 invalid_token certificate_mismatch', "$method, of a thief");
}
refuses({ method => 'OPTIONS', headers => ['Origin: https://a.test', 'Access-Control-Request-Method: GET'] }, '401 - no_token', 'a preflight');
--- no_error_log
[error]

=== TEST 3: 6750-2.1-b: several Authorization headers: nginx refuses them itself
--- run
my $bearer = 'Authorization: Bearer ' . named_token('bound');
for my $h2 (0, 1) {
    for ([[$bearer], '200'], [[$bearer, $bearer], '400 nginx'], [[$bearer, 'Authorization: Basic eDp5'], '400 nginx'], [['authorization: x', $bearer], '400 nginx']) {
        my ($headers, $expected) = @$_;
        refuses({ cert => 'client', headers => $headers, h2 => $h2 }, $expected, ($h2 ? 'HTTP/2' : 'HTTP/1.1') . ': ' . scalar @$headers);
    }
}
--- no_error_log
[error]

=== TEST 4: one line of the log for each refusal, to the letter
--- http_config
log_format id '$request_id';
--- tls
access_log $RUN/id.log id;
location /report { keybound report; $PROXY; }
--- run
my $token_id = '';
for (['/', 'refused', ', status=401'], ['/report', 'reported', '']) {
    my ($path, $what, $status) = @$_;
    unlink "$RUN/id.log";
    kill USR1 => master();
    until_true(2, sub { -e "$RUN/id.log" });
    log_mark();
    call(cert => 'thief', token => 'bound', path => $path);
    my ($line) = grep { /keybound:/ } split /\n/, log_since();
    until_true(2, sub { -s "$RUN/id.log" });
    my ($id) = read_file("$RUN/id.log") =~ /([0-9a-f]{32})/;
    like($line, qr/ \[warn\] .* keybound: $what, reason=certificate_mismatch\Q$status\E, token=[0-9a-f]{8}, request_id=$id(?:,| while)/, "$what: $line");
    my ($named) = $line =~ /token=(\w+)/;
    $token_id ||= $named;
    is($named, $token_id, 'one token, one name');
    is(scalar(() = log_since() =~ /keybound:/g), 1, 'one line');
}
log_mark();
call(cert => 'client');
like(log_since(), qr/\[warn\] .* keybound: refused, reason=no_token, status=401, token=-, request_id=[0-9a-f]{32}/, 'no token');
log_mark();
passes({ cert => 'client', token => 'bound' }, 'allowed');
unlike(log_since(), qr/keybound/, 'nothing is logged of it');
--- no_error_log
[error]

=== TEST 5: 6750-5.3-a: no token in the error log, at level debug only where nginx itself lists the headers
--- log_level: debug
--- engine
kb: { "upstream_headers_claims": ["sub"], "upstream_headers_names": ["X-User"] }
--- tls
location / { proxy_set_header Authorization ""; $PROXY; }
--- run
my @names = qw(bound for:thief unbound forged expired other_audience);
log_mark();
call(cert => 'client', token => $_) for @names;
my @lines = split /\n/, log_since();
ok(@lines > 500, 'the log is that of level debug');
for my $name (@names) {
    my (undef, $payload, $signature) = split /\./, named_token($name);
    my @with = grep { index($_, $payload) >= 0 || index($_, $signature) >= 0 } @lines;
    is(join("\n", grep { !/ \[debug\] .* http header: "Authorization: / } @with), '', "nowhere else: $name");
    is(scalar(@with), 1, "there once: $name");
}
--- no_error_log
[error]

=== TEST 6: display_errors, expose_error_code and messages of the file are those of the answer
--- engine
kb: { "display_errors": true, "unauthorized_error_message": "go \"away\"" }
silent: { "expose_error_code": false }
--- run
my $response = call(cert => 'thief', token => 'bound');
is($response->{body}, '{"message":"go \"away\"","reason":"certificate_mismatch"}', 'the body');
is(scalar header($response, 'WWW-Authenticate'), 'Bearer error="invalid_token", error_description="certificate_mismatch"', 'the challenge');
is(scalar header(call(cert => 'thief', token => 'bound', path => '/silent'), 'WWW-Authenticate'), 'Bearer', 'expose_error_code');
--- no_error_log
[error]

=== TEST 7: HTTP/1.0 without Host
--- config
location / { keybound on; keybound_config $KB/kb.json; $PROXY; }
--- raw_request eval
"GET / HTTP/1.0\r\n\r\n"
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer
Cache-Control: no-store
--- response_body chop
{"message":"Unauthorized"}
--- error_log
reason=no_token
--- no_error_log
[error]

=== TEST 8: requests with a body, refused before it is read: the connection stays usable
--- run
write_file("$RUN/body", 'x' x 300_000);
for my $h2 (0, 1) {
    for my $data ('a=b', "\@$RUN/body") {
        log_mark();
        my @responses = calls_on_one_connection(map { { cert => 'client', token => $_, method => 'POST', data => $data, h2 => $h2 } } 'for:thief', 'bound', 'for:thief', 'bound');
        is(join(' ', map { $_->{status} // '-' } @responses), '401 200 401 200', ($h2 ? 'HTTP/2' : 'HTTP/1.1') . ': each by its token');
        is(join(' ', reasons()), '401 certificate_mismatch 401 certificate_mismatch', 'reasons');
        is($responses[0]{body}, '{"message":"Unauthorized"}', 'the whole answer');
        is(join(' ', map { $_->{connected} } @responses), '1 0 0 0', 'one connection') if $data eq 'a=b';
    }
}
--- no_error_log
[error]

=== TEST 9: compression, add_header and other filters leave the answer whole
--- http_config
gzip on;
gzip_types application/json;
gzip_min_length 1;
add_header X-Every-Answer yes always;
--- run
my $response = call(cert => 'thief', token => 'bound', headers => ['Accept-Encoding: gzip']);
is($response->{status}, 401, 'status');
is(header($response, 'X-Every-Answer'), 'yes', 'filters ran');
require IO::Uncompress::Gunzip;
my $body = $response->{body};
if (header($response, 'Content-Encoding') eq 'gzip') {
    IO::Uncompress::Gunzip::gunzip(\$response->{body} => \$body) or die "gunzip\n";
}
is($body, '{"message":"Unauthorized"}', 'body');
--- no_error_log
[error]

=== TEST 10: tokens that are too large: nginx's limit first, keybound's where nginx lets more through
--- tls
large_client_header_buffers 4 32k;
--- calls
client - authorization="Bearer xxxx" -> 401 invalid_token token_not_jwt
--- run
for my $h2 (0, 1) {
    refuses({ cert => 'client', authorization => 'Bearer ' . 'x' x 20000, h2 => $h2 }, '401 invalid_token token_too_large', '20000 bytes');
    refuses({ cert => 'client', authorization => 'Bearer ' . 'x' x 8000, h2 => $h2 }, '401 invalid_token token_not_jwt', '8000 bytes');
}
refuses({ cert => 'client', authorization => 'Bearer ' . 'x' x 40000 }, '400 nginx', '40000 bytes');
--- no_error_log
[error]

=== TEST 11: 8705-3-c: all refused tokens look alike: the same bytes whatever the reason
--- run
my %seen;
for (['thief', 'bound'], ['-', 'bound'], ['client', 'unbound'], ['client', 'forged'], ['client', 'expired'], ['client', 'other_audience'], ['client', 'junk']) {
    my $response = call(cert => $_->[0], token => $_->[1]);
    $seen{ join "\n", $response->{status}, (map { "$_->[0]: $_->[1]" } grep { $_->[0] ne 'Date' } @{ $response->{headers} }), $response->{body} }++;
}
is(scalar(keys %seen), 1, 'one answer');
--- no_error_log
[error]
