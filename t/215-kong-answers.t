# What comes of a request by the plugin, besides the decision: the answer to who is refused, what Kong's own ways of reading requests
# would miss, preflights, report_only, what is logged; and that nothing opens where there is no decision.
use Kong;
use Test::Nginx::Socket 'no_plan';

our ($gone_port) = Keybound::_free_ports(1);
our ($true, $false) = (JSON::PP::true, JSON::PP::false);

# answers(EXPECTED, NAME, %call): one request, compared as by `calls`
sub answers {
    my ($expected, $name, %call) = @_;
    log_mark();
    my $response = call(%call);
    check($response, $expected, $name);
    return $response;
}
# What was only reported since the last mark, and how often anything was refused.
sub reported { return join ' ', (map { /\[keybound\] reported, reason=(\w+), status=-,/ ? $1 : () } split /\n/, log_since()), map { "BUT $_" } reasons() }
# What no client may say of itself, under all names that Kong, the plugin's options and an upstream like CGI have for it.
our @SPOOFED = map { ("$_: root", tr/-/_/r . ': root') } qw(X-User X-Consumer-ID X-Consumer-Username X-Consumer-Custom-ID X-Credential-Identifier
    X-Anonymous-Consumer X-Client-Cert X-Client-Cert-Serial X-Client-Cert-Thumbprint);
our @HEADERS = (upstream_headers_claims => ['sub'], upstream_headers_names => ['X-User'], inject_client_cert_details => $true);
our @PREFLIGHT = ('Origin: https://app.test', 'Access-Control-Request-Method: PUT');
sub spoofed { return upstream_saw($_[0], 'x[-_](?:user|consumer|credential|anonymous|client).*') }
# The counter of requests: "DECISION REASON", how often
sub counted {
    my %count;
    my $page = call(plain => 1, path => '/page')->{body};
    $count{"$1 $2"} += $3 while $page =~ /^keybound_requests_total\{[^}]*decision="(\w+)",reason="(\w+)"[^}]*\} (\d+)/mg;
    return join ', ', map { "$_ $count{$_}" } sort keys %count;
}
# Some builds of nginx 1.22 have a limit of their own.
our $MANY = read_file($ENV{TEST_NGINX_BINARY}) =~ /\0max_headers\0/ ? 'max_headers 2000;' : '';
our $PAGE = 'location = /page { content_by_lua_block { require("resty.keybound").metrics("keybound_metrics") } }';
# The body of an answer where there is no decision.
sub fails {
    my ($name, %call) = @_;
    my $response = answers('500 nginx', $name, %call);
    is($response->{body}, '{"message":"An unexpected error occurred"}', "$name: body");
}

run_tests();

__DATA__

=== TEST 1: each class of refusal has its status, one challenge, a body as Kong's, and one line in the log
--- kong eval
+{ plugins => [main::keybound(scopes_required => ['write'])] }
--- tokens eval
+{ write => { for => 'client', claims => { scope => 'read write' } } }
--- calls
client write                      -> 200
client write h2                   -> 200
client -                          -> 401 - no_token
client - authorization=Basic      -> 401 - no_token
client - authorization=Bearer     -> 400 invalid_request malformed_authorization
client - authorization="Bearer a, Bearer b" -> 400 invalid_request malformed_authorization
client junk                       -> 401 invalid_token token_not_jwt
thief  write                      -> 401 invalid_token certificate_mismatch
thief  write h2                   -> 401 invalid_token certificate_mismatch
thief  write method=HEAD          -> 401 invalid_token certificate_mismatch
thief  write method=POST data=a=b -> 401 invalid_token certificate_mismatch
client bound                      -> 403 insufficient_scope insufficient_scope
client bound h2 method=DELETE     -> 403 insufficient_scope insufficient_scope
--- no_error_log
[error]

=== TEST 2: the log names plugin, reason and a mark of the token, never the token
--- kong eval
+{ plugins => [main::keybound()] }
--- run
answers('401 invalid_token certificate_mismatch', 'refused', cert => 'thief', token => 'bound');
like(log_since(), qr/\[warn\].*\[keybound\] refused, reason=certificate_mismatch, status=401, token=[0-9a-f]{8}\b/, 'what');
my ($head, $claims, $signature) = split /\./, named_token('bound');
unlike(log_since(), qr/\Q$_\E/, 'not this') for $claims, $signature;
--- no_error_log
[error]

=== TEST 3: realm and messages are the operator's
--- kong eval
+{ plugins => [main::keybound(realm => 'the api', unauthorized_error_message => 'No "entry" \\ here', forbidden_error_message => 'Not you', scopes_required => ['write'])] }
--- realm: the api
--- messages eval
+{ 401 => 'No "entry" \\ here', 403 => 'Not you' }
--- calls
client -     -> 401 - no_token
thief  bound -> 401 invalid_token certificate_mismatch
client bound -> 403 insufficient_scope insufficient_scope
client bound path=/?access_token=x -> 400 invalid_request several_tokens
--- no_error_log
[error]

=== TEST 4: expose_error_code false: the challenge holds no error and no scope
--- kong eval
+{ plugins => [main::keybound(expose_error_code => $main::false, scopes_required => ['write'])] }
--- calls
client -     -> 401 - no_token
thief  bound -> 401 - certificate_mismatch
client bound -> 403 - insufficient_scope
client bound path=/?access_token=x -> 400 - several_tokens
--- no_error_log
[error]

=== TEST 5: display_errors tells the reason, else nobody does; a consumer that is not there has no challenge
--- listener: optional_no_ca
--- kong eval
my @options = (realm => 'r', scopes_required => ['write'], consumer_claim => ['sub']);
+{ main::routes(tells => [main::keybound(@options, display_errors => $main::true)], not => [main::keybound(@options)],
    neither => [main::keybound(@options, display_errors => $main::true, expose_error_code => $main::false)]) }
--- tokens eval
+{ write => { for => 'client', claims => { scope => 'write' } } }
--- run
my $tell = sub { my $r = call(cert => $_[1], token => $_[2], path => "/$_[0]/"); return join '|', $r->{status}, header($r, 'WWW-Authenticate'), $r->{body} };
for (['thief', 'bound', 401, 'Unauthorized', 'certificate_mismatch', 'error="invalid_token"'],
     ['client', 'bound', 403, 'Forbidden', 'insufficient_scope', 'error="insufficient_scope"', ', scope="write"'],
     ['client', '-', 401, 'Unauthorized', 'no_token'], ['client', 'write', 403, 'Forbidden', 'consumer_not_found']) {
    my ($cert, $token, $status, $message, $reason, $error, $scope) = @$_;
    my $challenge = $reason eq 'consumer_not_found' ? '' : '|Bearer realm="r"';
    my $shown = $error ? ", $error" : '';
    my $described = $error ? ", error_description=\"$reason\"" : '';
    is($tell->('tells', $cert, $token), "$status$challenge$shown$described@{[$scope // '']}|{\"message\":\"$message\",\"reason\":\"$reason\"}", "$reason: told");
    is($tell->('not', $cert, $token), "$status$challenge$shown@{[$scope // '']}|{\"message\":\"$message\"}", "$reason: not told");
    is($tell->('neither', $cert, $token), "$status$challenge|{\"message\":\"$message\",\"reason\":\"$reason\"}", "$reason: told in the body");
}
--- no_error_log
[error]

=== TEST 6: a token in the query is none, and with another one several
--- kong eval
+{ plugins => [main::keybound()] }
--- run
my $token = named_token('bound');
answers('200', 'in the header', cert => 'client', token => 'bound', path => '/?a=b');
answers('401 - no_token', 'in the query', cert => 'client', path => "/?access_token=$token");
answers('400 invalid_request several_tokens', $_, cert => 'client', token => 'bound', path => "/?$_") for "access_token=$token", 'a=b&access_token=', 'access%5Ftoken=x';
--- no_error_log
[error]

=== TEST 7: a DPoP header comes once: Kong shows the first of several, and of many headers none
--- http_config eval: $main::MANY
--- kong eval
+{ plugins => [main::keybound()] }
--- run
for my $h2 (0, 1) {
    for my $n (0, 98, 100, 900, 1000, 1200) {
        my @many = map { "a$_: b" } 1 .. $n;
        my @call = (cert => 'client', token => 'bound', h2 => $h2);
        answers('200', "$n others", @call, headers => \@many);
        # Beyond a thousand it cannot be told; a proof there is not taken for the only one.
        answers($n < 1000 ? '200' : '400 invalid_request duplicate_header', "$n others, one", @call, headers => [@many, 'DPoP: a']);
        answers('400 invalid_request duplicate_header', "$n others, two", @call, headers => [@many, 'DPoP: a', 'dpop: b']);
        answers('400 invalid_request duplicate_header', "one, $n others, one", @call, headers => ['DPoP: a', @many, 'DPoP: a']);
    }
}
answers('400 invalid_request duplicate_header', 'before all else', cert => 'thief', token => 'forged', headers => ['DPoP: a', 'DPoP: b']);
answers('400 invalid_request duplicate_header', 'without values', cert => 'client', token => 'bound', headers => ['DPoP;', 'DPoP;']);
--- no_error_log
[error]

=== TEST 8: two Authorization headers nginx refuses itself
--- kong eval
+{ plugins => [main::keybound()] }
--- run
for my $h2 (0, 1) {
    my @call = (cert => 'client', token => 'bound', h2 => $h2);
    my $again = 'uthorization: Bearer ' . named_token('bound');
    answers('200', 'one', @call);
    answers('400 nginx', 'two', @call, headers => ["A$again"]);
    answers('400 nginx', 'two in small letters, one empty', @call, headers => ['authorization;']);
    answers('200', 'another name', @call, headers => ["Proxy-A$again"]);
}
--- no_error_log
[error]

=== TEST 9: run_on_preflight false: CORS preflights pass, and nothing else that has no token
--- listener: optional_no_ca
--- kong eval
+{ main::routes(pass => [main::keybound(run_on_preflight => $main::false)], not => [main::keybound()]) }
--- run
for my $h2 (0, 1) {
    answers('200', 'a preflight', method => 'OPTIONS', headers => [@PREFLIGHT], path => '/pass/', h2 => $h2);
    answers('200', 'a preflight with a bad token', cert => 'thief', token => 'bound', method => 'OPTIONS', headers => [@PREFLIGHT], path => '/pass/', h2 => $h2);
    answers('401 - no_token', 'where they do not', method => 'OPTIONS', headers => [@PREFLIGHT], path => '/not/', h2 => $h2);
    answers('401 - no_token', "OPTIONS with @$_", method => 'OPTIONS', headers => $_, path => '/pass/', h2 => $h2) for [], [$PREFLIGHT[0]], [$PREFLIGHT[1]];
    answers('401 - no_token', "$_ with both", method => $_, headers => [@PREFLIGHT], path => '/pass/', h2 => $h2) for qw(GET POST PUT DELETE PATCH);
    answers('401 - no_token', 'another method by name', method => 'GET', headers => [@PREFLIGHT, 'X-HTTP-Method-Override: OPTIONS'], path => '/pass/', h2 => $h2);
    answers('401 invalid_token certificate_mismatch', 'OPTIONS with a bad token', cert => 'thief', token => 'bound', method => 'OPTIONS', path => '/pass/', h2 => $h2);
    answers('200', 'OPTIONS with a good one', cert => 'client', token => 'bound', method => 'OPTIONS', path => '/pass/', h2 => $h2);
}
--- no_error_log
[error]

=== TEST 10: whatever lets a request through, what its client says of itself does not arrive
--- listener: optional_no_ca
--- kong eval
+{ main::routes(pass => [main::keybound(@main::HEADERS, run_on_preflight => $main::false)], report => [main::keybound(@main::HEADERS, report_only => $main::true)],
    other => []) }
--- run
for my $h2 (0, 1) {
    my %call = (headers => [@SPOOFED, @PREFLIGHT], h2 => $h2);
    my $n = () = spoofed(call(%call, method => 'OPTIONS', path => '/other/')) =~ /root/g;
    is($n, scalar @SPOOFED, 'without the plugin all of it does');
    for (['a preflight', '', %call, method => 'OPTIONS', path => '/pass/'], ['only reported', '', %call, cert => 'thief', token => 'bound', path => '/report/']) {
        my ($name, $expected, @call) = @$_;
        my $response = call(@call);
        is("$response->{status} " . spoofed($response), "200 $expected", $name);
    }
    my $response = call(%call, cert => 'client', token => 'bound', path => '/pass/');
    is($response->{status} . ' ' . spoofed($response) =~ s/(x-client-cert(?:-serial|-issuer-dn|-subject-dn|-fingerprint)?): [^|]+/$1/gr,
        '200 x-client-cert-fingerprint|x-client-cert-issuer-dn|x-client-cert-serial|x-client-cert-subject-dn|x-client-cert-thumbprint: ' . thumbprint('client')
        . '|x-client-cert|x-credential-identifier: user-1|x-user: user-1', 'allowed: what the plugin says');
}
--- no_error_log
[error]

=== TEST 11: report_only: what would be refused passes, and is logged once with its reason
--- kong eval
+{ plugins => [main::keybound(report_only => $main::true, scopes_required => ['read'], consumer_claim => ['client_id'], metrics_dict => 'keybound_metrics')],
   consumers => [{ username => 'client-1' }] }
--- config eval: $main::PAGE
--- tokens eval
+{ poor => { for => 'client', claims => { scope => 'x' } }, nobody => { for => 'client', claims => { client_id => 'nobody' } } }
--- run
for (['client', 'bound', ''], ['-', '-', 'no_token'], ['thief', 'bound', 'certificate_mismatch'], ['-', 'bound', 'certificate_missing'], ['client', 'unbound', 'token_unbound'],
     ['client', 'forged', 'signature_invalid'], ['client', 'junk', 'token_not_jwt'], ['client', 'poor', 'insufficient_scope'], ['client', 'nobody', 'consumer_not_found'],
     ['client', 'bound', 'duplicate_header', headers => ['DPoP: a', 'DPoP: b']], ['client', 'bound', 'several_tokens', path => '/?access_token=x']) {
    my ($cert, $token, $reason, @more) = @$_;
    log_mark();
    my $response = call(cert => $cert, token => $token, @more);
    is("$response->{status} " . header($response, 'WWW-Authenticate'), '200 ', "$cert $token: passes");
    is(reported(), $reason, "$cert $token: logged");
}
# Of `nobody` both are counted: the token was good.
is(counted(), join(', ', 'allow allowed 2', map { "report $_ 1" } qw(certificate_mismatch certificate_missing consumer_not_found duplicate_header insufficient_scope
    no_token several_tokens signature_invalid token_not_jwt token_unbound)), 'counted');
kong_reload({ plugins => [keybound(metrics_dict => 'keybound_metrics')] });
answers('401 invalid_token certificate_mismatch', 'without it', cert => 'thief', token => 'bound');
like(counted(), qr/deny certificate_mismatch 1,.*report certificate_mismatch 1,/, 'refused is counted otherwise');
--- error_log
report_only
--- no_error_log
[error]

=== TEST 12: report_only: nobody is authenticated, and neither upstream nor client get anything
--- kong eval
my @options = (@main::HEADERS, hide_credentials => $main::true, authenticated_groups_claim => ['groups'], downstream_headers_claims => ['sub'], downstream_headers_names => ['X-Down']);
+{ plugins => [main::keybound(@options, report_only => $main::true, consumer_claim => ['client_id']), { name => 'probe', config => { access => <<'EOL' }}], consumers => [{ username => 'client-1' }] }
local shared = kong.ctx.shared.keybound or {}
kong.response.set_header("X-Seen", require("cjson").encode({ kong.client.get_consumer() and 1 or 0, kong.client.get_credential() and 1 or 0,
    kong.ctx.shared.authenticated_groups and 1 or 0, shared.reason or "-", shared.allowed and shared.claims and 1 or 0 }))
EOL
--- tokens eval
+{ nobody => { for => 'client', claims => { client_id => 'nobody' } } }
--- run
my $seen = sub {
    my $response = call(@_);
    return join ' ', map { length ? $_ : '-' } scalar header($response, 'X-Seen'), scalar header($response, 'X-Down'),
        upstream_saw($response, 'authorization') ? 'token' : 'hidden', spoofed($response) =~ s/: [^|]*//gr;
};
like($seen->(cert => 'client', token => 'bound'), qr/^\Q[1,1,1,"allowed",1] user-1 hidden \Ex-client-cert-.*\|x-consumer-id\|x-consumer-username\|x-credential-identifier\|x-user$/, 'allowed');
is($seen->(cert => 'thief', token => 'bound'), '[0,0,0,"certificate_mismatch",0] - token -', 'reported');
is($seen->(cert => 'client', token => 'nobody'), '[0,0,0,"consumer_not_found",0] - token -', 'reported by the plugin');
is($seen->(cert => 'client', token => 'bound', headers => ['DPoP: a', 'DPoP: b']), '[0,0,0,"duplicate_header",0] - token -', 'and before the engine is asked');
--- no_error_log
[error]

=== TEST 13: report_only: an authorization server that is away refuses nobody either
--- listener: optional_no_ca
--- kong eval
my @away = (issuer => "https://localhost:$main::gone_port", jwks => undef, ssl_trusted_certificate => '$PKI/ca.crt');
+{ main::routes(report => [main::keybound(@away, report_only => $main::true)], not => [main::keybound(@away)]) }
--- tokens eval
+{ away => { for => 'client', claims => { iss => "https://localhost:$main::gone_port" } } }
--- run
my $response = answers('503 - keys_unavailable', 'refused', cert => 'client', token => 'away', path => '/not/');
is(scalar header($response, 'Retry-After'), 5, 'come back later');
answers('200', 'reported', cert => 'client', token => 'away', path => '/report/');
is(reported(), 'keys_unavailable', 'the reason');
--- no_error_log
[alert]

=== TEST 14: the log of requests has what was decided
--- listener: optional_no_ca
--- kong eval
+{ main::routes(deny => [main::keybound(run_on_preflight => $main::false)], report => [main::keybound(report_only => $main::true)]) }
--- run
for (['allowed', 'true allowed', cert => 'client', token => 'bound', path => '/deny/'], ['refused', 'false certificate_mismatch', cert => 'thief', token => 'bound', path => '/deny/'],
     ['reported', 'true certificate_mismatch', cert => 'thief', token => 'bound', path => '/report/'], ['without a token', 'false no_token', path => '/deny/'],
     ['by the plugin', 'false duplicate_header', path => '/deny/', headers => ['DPoP: a', 'DPoP: b']],
     ['nothing is decided', 'none', path => '/deny/', method => 'OPTIONS', headers => [@PREFLIGHT]], ['by nginx', 'none', path => '/deny/', headers => ['Authorization: a', 'Authorization: b']]) {
    my ($name, $expected, @call) = @$_;
    my $status = call(@call)->{status};
    my ($line) = serialized();
    my $told = $line->{keybound} // {};
    is(%$told ? join(' ', $told->{allowed} ? 'true' : 'false', $told->{reason}) : 'none', $expected, $name);
    is($line->{response}{status}, $status, "$name: its status");
    like($told->{token} // '', $expected =~ /mismatch/ ? qr/^[0-9a-f]{8}$/ : qr/^$/, "$name: which token");
    is(join(' ', sort keys %$told), join(' ', 'allowed', 'reason', $told->{token} ? 'token' : ()), "$name: no more") if %$told;
}
--- no_error_log
[error]

=== TEST 15: a configuration that was accepted and cannot be used opens nothing
--- listener: optional_no_ca
--- kong eval
my $mine = '5f0e3a52-8a9c-4a0e-9d55-3f7c1d0a0a01';
my @as = (issuer => '$AS', jwks => undef, ssl_trusted_certificate => '$PKI/ca.crt', client_id => ['gateway'], client_auth => ['tls_client_auth']);
my %without = (run_on_preflight => $main::false, report_only => $main::true, proof_of_possession_mtls => 'off', anonymous => 'guest');
+{ consumers => [{ username => 'guest' }], certificates => [{ id => $mine, cert => main::read_file("$main::PKI/gateway.crt"), key => main::read_file("$main::PKI/gateway.key") }],
   main::routes(good => [main::keybound(@as, %without, tls_client_auth_cert_id => $mine)], entity => [main::keybound(@as, %without, tls_client_auth_cert_id => $mine =~ s/1$/2/r)],
       zone => [main::keybound(%without, shared_dict => 'nowhere')], file => [main::keybound(%without, jwks => undef, issuer => '$AS', ssl_trusted_certificate => '$PKI/none.crt')],
       vault => [main::keybound(%without, issuer => '{vault://env/kb-nothing}')],
       good_zone => [main::keybound(%without, shared_dict => 'keybound')], good_vault => [main::keybound(%without, issuer => '{vault://env/kb-issuer}')]) }
--- env
KB_ISSUER=https://as.test
--- run
for (['/good/', 'opaque:client'], ['/good_zone/', 'bound'], ['/good_vault/', 'bound']) {
    my ($path, $token) = @$_;
    answers('200', "$path: the same with what is there", cert => 'client', token => $token, path => $path);
    is(reported(), '', "$path: allowed");
}
for my $path (qw(/entity/ /zone/ /file/ /vault/)) {
    fails("$path, @{$_}[1, 3]", @$_, path => $path) for [cert => 'client', token => 'bound'], [cert => 'client', token => 'opaque:client'], [cert => '-', token => '-'];
    fails("$path, preflight", path => $path, method => 'OPTIONS', headers => [@PREFLIGHT]);
}
--- error_log
the configuration cannot be used: tls_client_auth_cert_id: there is no Certificate 5f0e3a52-8a9c-4a0e-9d55-3f7c1d0a0a02

=== TEST 16: nor does a library whose calls fail, or that says what this host does not know, even with an old allow in it
--- listener: optional_no_ca
--- kong eval
+{ main::routes(strict => [main::keybound()], most => [main::keybound(report_only => $main::true, anonymous => 'guest', proof_of_possession_mtls => 'off')]), consumers => [{ username => 'guest' }] }
--- fake_library
#include "keybound.h"
#include <stdlib.h>
#include <string.h>
/* Decides what the query says: STEP,STATUS,STATUS OF THE CLAIMS, CLAIMS (0: none, 1: an object, 2: not JSON). */
static long said[4];
static const char *CLAIMS[] = { NULL, "{\"sub\":\"user-1\"}", "{" };
uint32_t kb_engine_report_only(const struct kb_engine *e) { return *(const uint32_t *)e; }
int32_t kb_engine_new(const uint8_t *c, size_t n, struct kb_engine **e, uint8_t *b, size_t m, size_t *l) {
  (void)b; (void)m; (void)l;
  uint32_t *engine = malloc(sizeof(*engine));
  *engine = memmem(c, n, "report_only", 11) != NULL;
  *e = (struct kb_engine *)engine;
  return KB_OK;
}
int32_t kb_check_claims(const struct kb_check *c, struct kb_str *s) {
  if (c == NULL) {
    return KB_E_NULL;
  }
  s->ptr = (const uint8_t *)CLAIMS[said[3]];
  s->len = strlen(CLAIMS[said[3]]);
  return (int32_t)said[2];
}
int32_t kb_engine_decide(const struct kb_engine *e, const struct kb_facts *f, struct kb_decision *d) {
  (void)e;
  char text[32] = "", *end = text - 1;
  memcpy(text, f->query.ptr, f->query.len < 31 ? f->query.len : 31);
  for (int i = 0; i < 4; i++) {
    said[i] = strtol(end + 1, &end, 10);
  }
  d->step = (uint32_t)said[0];
  d->reason = KB_REASON_ALLOWED;
  d->check = said[3] ? (struct kb_check *)said : NULL;
  return (int32_t)said[1];
}
--- run
for my $path ('/strict/', '/most/') {
    my @call = (cert => 'client', token => 'bound', path => $path);
    answers('200', "$path: it can allow", @call, path => "$path?1,0,0,1");
    fails("$path: $_", @call, path => "$path?$_") for '0,0,0,0', '3,0,0,0', '99,0,0,0', '1,0,0,0', '1,-1,0,1', '1,-99,0,1', '1,1,0,1', '1,0,-1,1', '1,0,0,2';
    fails("$path: no answer to a refusal", @call, path => "$path?1,0,0,1", headers => ['DPoP: a', 'DPoP: b']) if $path eq '/strict/';
}
--- error_log
keybound.decide: the fake fails
keybound.decide: a step that this host cannot take
keybound.decide: the claims cannot be read
[keybound] the claims cannot be read
keybound.refusal: the fake fails

=== TEST 17: an option that is null has its default
--- kong eval
+{ main::routes(null => [main::keybound(run_on_preflight => \undef, consumer_by => \undef, consumer_claim => ['sub'])], false => [main::keybound(run_on_preflight => $main::false, consumer_by => ['username'], consumer_claim => ['sub'])]),
   consumers => [{ username => 'user-1' }] }
--- listener: optional_no_ca
--- run
my %preflight = (method => 'OPTIONS', headers => ['Origin: https://a.test', 'Access-Control-Request-Method: PUT']);
log_mark();
check(call(path => '/null/', %preflight), '401 - no_token', 'null');
is(call(path => '/false/', %preflight)->{status}, 200, 'false');
is(call(path => "/$_/", cert => 'client', token => 'bound')->{status}, 200, "a consumer, $_") for qw(null false);
--- no_error_log
[error]
