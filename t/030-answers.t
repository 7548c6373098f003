# What a refused client sees, and what it does not.
use Keybound;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== TEST 1: 6750-3.1-a: each class of refusal has its status and error
--- engine
kb = engine { scopes_required = { "write" } }
--- tokens eval
+{ write => { for => 'client', claims => { scope => 'read write' } } }
--- calls
client write                      -> 200
client -                          -> 401 - no_token
client - authorization=Bearer     -> 400 invalid_request malformed_authorization
client write path=/?access_token= -> 400 invalid_request several_tokens
client junk                       -> 401 invalid_token token_not_jwt
client forged                     -> 401 invalid_token signature_invalid
client expired                    -> 401 invalid_token token_expired
client other_audience             -> 401 invalid_token audience_mismatch
thief  write                      -> 401 invalid_token certificate_mismatch
client bound                      -> 403 insufficient_scope insufficient_scope
--- no_error_log
[error]

=== TEST 2: 6750-3-a: the challenge, character by character
--- engine
kb = engine { scopes_required = { "read write", "admin" }, realm = "the api" }
plain = engine()
--- tls
location /plain { access_by_lua_block { plain:access() } content_by_lua_block { ngx.say("passed") } }
--- run
for (['/', '-', 'Bearer realm="the api"'],
     ['/', 'junk', 'Bearer realm="the api", error="invalid_token"'],
     ['/', 'bound', 'Bearer realm="the api", error="insufficient_scope", scope="read write admin"'],
     ['/?access_token=x', 'bound', 'Bearer realm="the api", error="invalid_request"'],
     ['/plain', '-', 'Bearer'],
     ['/plain', 'junk', 'Bearer error="invalid_token"'],
     ['/plain?access_token=x', 'bound', 'Bearer error="invalid_request"'],
     ['/plain', 'bound', '']) {
    my ($path, $token, $expected) = @$_;
    is(join('|', header(call(cert => 'client', token => $token, path => $path), 'WWW-Authenticate')), $expected, "$path $token");
}
--- no_error_log
[error]

=== TEST 3: the realm is in every challenge
--- engine
kb = engine { realm = "api" }
--- realm: api
--- calls
client bound -> 200
client -     -> 401 - no_token
thief  bound -> 401 invalid_token certificate_mismatch
client bound path=/?access_token=x -> 400 invalid_request several_tokens
--- no_error_log
[error]

=== TEST 4: the messages are the operator's
--- engine
kb = engine { unauthorized_error_message = 'No "entry" \\ here', forbidden_error_message = "Not you", scopes_required = { "write" } }
--- messages eval
+{ 401 => 'No "entry" \\ here', 403 => 'Not you' }
--- tokens eval
+{ write => { for => 'client', claims => { scope => 'write' } } }
--- calls
client write -> 200
client -     -> 401 - no_token
thief  write -> 401 invalid_token certificate_mismatch
client bound -> 403 insufficient_scope insufficient_scope
client - authorization=Bearer -> 400 invalid_request malformed_authorization
--- no_error_log
[error]

=== TEST 5: expose_error_code = false: the challenge holds no error and no scope
--- engine
kb = engine { expose_error_code = false, scopes_required = { "write" } }
--- tokens eval
+{ write => { for => 'client', claims => { scope => 'write' } } }
--- calls
client write -> 200
client -     -> 401 - no_token
thief  write -> 401 - certificate_mismatch
client bound -> 403 - insufficient_scope
client - authorization=Bearer -> 400 - malformed_authorization
--- no_error_log
[error]

=== TEST 6: 9068-4-h: scopes, groups and roles: the entries are alternatives, the words of one must all be there
--- engine
scopes = engine { scopes_required = { "a b", "c" } }
groups = engine { groups_required = { "staff" } }
roles = engine { roles_required = { "admin" }, roles_claim = { "realm_access", "roles" } }
--- tls
location /scopes { access_by_lua_block { scopes:access() } content_by_lua_block { ngx.say("passed") } }
location /groups { access_by_lua_block { groups:access() } content_by_lua_block { ngx.say("passed") } }
location /roles { access_by_lua_block { roles:access() } content_by_lua_block { ngx.say("passed") } }
--- tokens eval
+{ ab => { for => 'client', claims => { scope => 'b x a' } }, c => { for => 'client', claims => { scope => ['c'] } },
   a => { for => 'client', claims => { scope => 'a' } }, none => { for => 'client', without => ['scope'] },
   staff => { for => 'client', claims => { groups => ['x', 'staff'] } }, other => { for => 'client', claims => { groups => ['staffs'] } },
   admin => { for => 'client', claims => { realm_access => { roles => ['admin'] } } }, flat => { for => 'client', claims => { roles => ['admin'] } },
   number => { for => 'client', claims => { groups => 7 } } }
--- calls
client ab     path=/scopes -> 200
client c      path=/scopes -> 200
client a      path=/scopes -> 403 insufficient_scope insufficient_scope
client none   path=/scopes -> 403 insufficient_scope insufficient_scope
client staff  path=/groups -> 200
client other  path=/groups -> 403 insufficient_scope insufficient_groups
client none   path=/groups -> 403 insufficient_scope insufficient_groups
client number path=/groups -> 401 invalid_token claims_malformed
client admin  path=/roles  -> 200
client flat   path=/roles  -> 403 insufficient_scope insufficient_roles
--- no_error_log
[error]

=== TEST 7: a token that is refused for its scope is still bound: the thief gets 401, not 403
--- engine
kb = engine { scopes_required = { "write" } }
--- calls
client bound  -> 403 insufficient_scope insufficient_scope
thief  bound  -> 401 invalid_token certificate_mismatch
-      bound  -> 401 invalid_token certificate_missing
client forged -> 401 invalid_token signature_invalid
--- no_error_log
[error]

=== TEST 8: 6750-2.1-a: the scheme, in any case; other schemes are no token
--- run
my $token = named_token('bound');
for (["Bearer $token", '200'], ["bearer $token", '200'], ["BEARER $token", '200'], ["bEARER   $token", '200'],
     ["Basic $token", '401 - no_token'], ["DPoP $token", '401 - no_token'], ["BearerX $token", '401 - no_token'], [$token, '401 - no_token'],
     ['', '401 - no_token'], ['Bear', '401 - no_token'], ["Token Bearer $token", '401 - no_token']) {
    my ($authorization, $expected) = @$_;
    log_mark();
    check(call(cert => 'client', authorization => $authorization), $expected, substr $authorization, 0, 16);
}
--- no_error_log
[error]

=== TEST 9: 6750-2.1-b: a Bearer header that is not one token is malformed
--- run
my $token = named_token('bound');
for (["Bearer $token", '200'], ['Bearer', '400 invalid_request malformed_authorization'], ["Bearer\t$token", '400 invalid_request malformed_authorization'],
     ["Bearer,$token", '400 invalid_request malformed_authorization'], ["Bearer $token $token", '400 invalid_request malformed_authorization'],
     ["Bearer $token, Bearer $token", '400 invalid_request malformed_authorization'], ["Bearer $token,", '400 invalid_request malformed_authorization'],
     ["Bearer \"$token\"", '400 invalid_request malformed_authorization'], ["Bearer =$token", '400 invalid_request malformed_authorization'],
     ["Bearer token=$token", '400 invalid_request malformed_authorization'], ["Bearer a.b.c", '401 invalid_token token_not_jwt']) {
    my ($authorization, $expected) = @$_;
    log_mark();
    check(call(cert => 'client', authorization => $authorization), $expected, substr $authorization, 0, 16);
}
--- no_error_log
[error]

=== TEST 10: 6750-2-a, 6750-2.3-a: a token in the query is no token, and beside one in the header too many
--- run
my $token = named_token('bound');
for (["/?access_token=$token", '-', '401 - no_token'],
     ["/?access_token=$token", 'bound', '400 invalid_request several_tokens'],
     ["/?a=b&access_token=$token", 'bound', '400 invalid_request several_tokens'],
     ["/?access_token", 'bound', '400 invalid_request several_tokens'],
     ["/?access%5Ftoken=$token", 'bound', '400 invalid_request several_tokens'],
     ["/?%61ccess_token=", 'bound', '400 invalid_request several_tokens'],
     ["/?Access_Token=x", 'bound', '200'], ["/?access_tokens=x&xaccess_token=x", 'bound', '200'], ["/?a=access_token", 'bound', '200'],
     ["/access_token=x", 'bound', '200'], ["/?", 'bound', '200']) {
    my ($path, $name, $expected) = @$_;
    log_mark();
    check(call(cert => 'client', token => $name, path => $path), $expected, "$name, " . substr $path, 0, 24);
}
--- no_error_log
[error]

=== TEST 11: 6750-2.1-b: two Authorization lines never reach keybound
--- run
my $bearer = 'Authorization: Bearer ' . named_token('bound');
for my $h2 (0, 1) {
    for ([[$bearer], '200'], [[$bearer, $bearer], '400 nginx'], [[$bearer, 'Authorization: Basic eDp5'], '400 nginx'],
         [['Authorization: Basic eDp5', $bearer], '400 nginx'], [['authorization: x', $bearer], '400 nginx']) {
        my ($headers, $expected) = @$_;
        log_mark();
        check(call(cert => 'client', headers => $headers, h2 => $h2), $expected, ($h2 ? 'HTTP/2' : 'HTTP/1.1') . ': ' . scalar @$headers);
    }
}
--- no_error_log
[error]

=== TEST 12: tokens that are too large: nginx's limit first, keybound's where nginx lets more through
--- tls
large_client_header_buffers 4 32k;
--- run
# Of exactly so many bytes: the padding is in the claims first, then character by character in the signed header.
sub token_of {
    my ($bytes) = @_;
    for my $pad (reverse 0 .. $bytes) {
        last if $pad < $bytes / 2;
        next if $pad > $bytes * 0.75;
        for my $more (0 .. 3) {
            my $token = token(for => 'client', claims => { pad => 'x' x $pad }, header => { more => 'y' x $more });
            return $token if length $token == $bytes;
            last if length $token > $bytes + 4;
            $pad -= int((length($token) - $bytes) * 0.75) if length $token > $bytes;
        }
    }
    die "no token of $bytes bytes\n";
}
my ($fits, $long) = (token_of(8192), token_of(8193));
for my $h2 (0, 1) {
    my $version = $h2 ? 'HTTP/2' : 'HTTP/1.1';
    log_mark();
    check(call(cert => 'client', authorization => "Bearer $fits", h2 => $h2), '200', "$version: 8192 bytes");
    log_mark();
    check(call(cert => 'client', authorization => "Bearer $long", h2 => $h2), '401 invalid_token token_too_large', "$version: 8193 bytes");
    log_mark();
    check(call(cert => 'thief', authorization => "Bearer $fits", h2 => $h2), '401 invalid_token certificate_mismatch', "$version: 8192 bytes, stolen");
}
log_mark();
check(call(cert => 'client', authorization => 'Bearer ' . 'x' x 20000), '401 invalid_token token_too_large', '20000 bytes');
log_mark();
check(call(cert => 'client', authorization => 'Bearer ' . 'x' x 40000), '400 nginx', '40000 bytes');
--- no_error_log
[error]

=== TEST 13: nginx's default buffers: 400 and 414 before keybound is asked
--- calls
client bound                                                     -> 200
--- run
for (['Bearer ' . 'x' x 7000, '/', '401 invalid_token token_not_jwt'], ['Bearer ' . 'x' x 9000, '/', '400 nginx'],
     ['Bearer ' . 'x' x 70, '/' . 'y' x 7000, '401 invalid_token token_not_jwt'], ['Bearer ' . 'x' x 70, '/' . 'y' x 9000, '414 nginx']) {
    my ($authorization, $path, $expected) = @$_;
    log_mark();
    check(call(cert => 'client', authorization => $authorization, path => $path), $expected, length($authorization) . ' and ' . length $path);
}
--- no_error_log
[error]

=== TEST 14: HEAD: the same head, no body
--- run
my %heads;
for my $method ('GET', 'HEAD') {
    my $response = call(cert => 'thief', token => 'bound', method => $method);
    $heads{$method} = join '|', $response->{status}, map { "$_->[0]: $_->[1]" } grep { $_->[0] ne 'Date' } @{ $response->{headers} };
    is($response->{body}, $method eq 'GET' ? '{"message":"Unauthorized"}' : '', "body of $method");
}
is($heads{HEAD}, $heads{GET}, 'one head');
like($heads{GET}, qr/Content-Length: 26\b/, 'with the length');
is(call(cert => 'client', token => 'bound', method => 'HEAD')->{status}, 200, 'its twin passes');
--- no_error_log
[error]

=== TEST 15: requests with a body, refused before it is read: the connection stays usable
--- run
write_file("$RUN/body", 'x' x 300_000);
for my $h2 (0, 1) {
    for my $data ('a=b', "\@$RUN/body") {
        log_mark();
        my @calls = map { { cert => 'client', token => $_, method => 'POST', data => $data, h2 => $h2 } } 'for:thief', 'bound', 'for:thief', 'bound';
        my @responses = calls_on_one_connection(@calls);
        is(join(' ', map { $_->{status} // '-' } @responses), '401 200 401 200', ($h2 ? 'HTTP/2' : 'HTTP/1.1') . ': each by its token');
        is(join(' ', reasons()), '401 certificate_mismatch 401 certificate_mismatch', 'reasons');
        is($responses[0]{body}, '{"message":"Unauthorized"}', 'the whole answer');
        # curl gives a connection up where it is answered in the middle of sending.
        is(join(' ', map { $_->{connected} } @responses), '1 0 0 0', 'one connection') if $data eq 'a=b';
    }
}
--- no_error_log
[error]

=== TEST 16: every method is checked, CORS preflights too
--- calls
client bound method=OPTIONS -> 200
-      -     method=OPTIONS -> 401 - no_token
thief  bound method=OPTIONS -> 401 invalid_token certificate_mismatch
client bound method=PUT data=x -> 200
thief  bound method=PUT data=x -> 401 invalid_token certificate_mismatch
client bound method=PATCH   -> 200
thief  bound method=PATCH   -> 401 invalid_token certificate_mismatch
client bound method=PURGE   -> 200
thief  bound method=PURGE   -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 17: 8705-3-c: all refused tokens look alike: the same bytes whatever the reason
--- run
my %seen;
my @reasons;
for (['thief', 'bound'], ['-', 'bound'], ['client', 'unbound'], ['client', 'forged'], ['client', 'expired'], ['client', 'other_audience'],
     ['client', 'junk'], ['client', 'for:rsa']) {
    log_mark();
    my $response = call(cert => $_->[0], token => $_->[1]);
    my $text = join "\n", $response->{status}, (map { "$_->[0]: $_->[1]" } grep { $_->[0] ne 'Date' } @{ $response->{headers} }), $response->{body};
    $seen{$text}++;
    push @reasons, reasons();
    unlike($text, qr/\Q@{[ thumbprint('client') ]}/, 'no thumbprint');
}
is(scalar(keys %seen), 1, 'one answer');
is(scalar(@reasons), 8, 'eight reasons in the log');
is(scalar(keys %{{ map { $_ => 1 } @reasons }}), 7, 'which differ');
--- no_error_log
[error]

=== TEST 18: 6750-5.3-a: no token in the error log, at level info
--- engine
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
--- tls
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say(ngx.ctx.keybound.claims.sub) } }
--- run
my @names = qw(bound for:thief unbound forged expired other_audience);
log_mark();
call(cert => 'client', token => $_) for @names;
call(cert => 'client', authorization => 'Bearer ' . named_token('bound') . '.more');
my $log = log_since();
is(scalar(grep { /keybound: refused/ } split /\n/, $log), 6, 'refusals are logged');
for my $name (@names) {
    my ($header, $payload, $signature) = split /\./, named_token($name);
    is(scalar(grep { index($log, $_) >= 0 } $payload, $signature), 0, "no part of the token $name is");
}
is(index($log, thumbprint('client')), -1, 'nor the thumbprint');
--- no_error_log
[error]

=== TEST 19: 6750-5.3-a: at level debug only nginx's own list of the headers has it
--- log_level: debug
--- engine
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
--- tls
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say(ngx.ctx.keybound.claims.sub) } }
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

=== TEST 20: error_page does not take the answer over
--- tls
error_page 400 401 403 = /error;
location = /error { return 200 "taken over"; }
--- calls
client bound -> 200
client -     -> 401 - no_token
thief  bound -> 401 invalid_token certificate_mismatch
client bound path=/?access_token=x -> 400 invalid_request several_tokens
--- no_error_log
[error]

=== TEST 21: compression and other filters leave the answer whole
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
is(call(cert => 'client', token => 'bound', headers => ['Accept-Encoding: gzip'])->{status}, 200, 'its twin passes');
--- no_error_log
[error]

=== TEST 22: HTTP/1.0 without Host
--- config
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } }
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

=== TEST 23: from rewrite_by_lua the answers are the same
--- tls
location / {
    rewrite_by_lua_block { kb:access() }
    content_by_lua_block { ngx.say("passed") }
}
--- calls
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
client -       -> 401 - no_token
--- no_error_log
[error]

=== TEST 24: what keybound cannot decide is refused: 500, nothing passes
--- engine
kb = engine()
broken = engine()
broken.ptr = nil
--- tls
location /broken { access_by_lua_block { broken:access() } content_by_lua_block { ngx.say("passed") } }
location /decide { content_by_lua_block { local result, err = broken:decide() ngx.say(tostring(result), " ", err) } }
--- run
my $response = call(cert => 'client', token => 'bound', path => '/broken');
is($response->{status}, 500, 'status');
unlike($response->{body}, qr/passed|NULL/, 'body');
is(call(cert => 'client', path => '/decide')->{body}, "nil keybound.decide: a required pointer is NULL\n", 'decide() says why');
is(call(cert => 'client', token => 'bound')->{status}, 200, 'another engine decides');
--- error_log
[error]
keybound: a required pointer is NULL

=== TEST 25: a step that the host does not know, or a failed call with an old allow in it, lets nothing through
--- engine
-- A library of that name whose every decision is what the query says.
kb = assert(require("resty.keybound").new("{}"))
--- fake_library
#include "keybound.h"
#include <stdlib.h>
#include <string.h>
int32_t kb_engine_decide(const struct kb_engine *e, const struct kb_facts *f, struct kb_decision *d) {
  (void)e;
  char text[32] = "";
  memcpy(text, f->query.ptr, f->query.len < 31 ? f->query.len : 31);
  int status, step;
  char *end;
  step = (int)strtol(text, &end, 10);
  status = (int)strtol(end + 1, NULL, 10);
  d->step = (uint32_t)step;
  d->reason = KB_REASON_ALLOWED;
  d->check = NULL;
  return status;
}
--- calls
- - path=/?1,0   -> 200
- - path=/?0,0   -> 500 nginx
- - path=/?3,0   -> 500 nginx
- - path=/?4,0   -> 500 nginx
- - path=/?99,0  -> 500 nginx
- - path=/?1,-1  -> 500 nginx
- - path=/?1,-99 -> 500 nginx
- - path=/?1,1   -> 500 nginx
--- error_log
keybound: a step that this host cannot take
keybound: the fake fails
