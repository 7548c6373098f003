# What TLS does to a client certificate: sessions, connections, virtual hosts, HTTP/2, nginx's own verdict, early data.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# Resumes a session and tells whether nginx really did: the first and the second response.
sub resumed {
    my ($first, $second) = @_;
    my $session = "$RUN/session";
    unlink $session;
    my @responses = s_client(%$first, save => $session);
    is(join(',', header($responses[0], 'X-Reused')), '.', 'a full handshake');
    is($responses[0]{status}, $first->{status}, 'answers ' . $first->{status}) if $first->{status};
    log_mark();
    push @responses, scalar s_client(%$second, tls => $first->{tls}, resume => $session);
    is(join(',', header($responses[1], 'X-Reused')), 'r', 'the session is resumed');
    return @responses;
}

run_tests();

__DATA__

=== TEST 1: 8705-3-a: a resumed session has the certificate of its handshake: cache
--- http_config
ssl_session_cache shared:tls:1m;
ssl_session_tickets off;
--- tls
add_header X-Reused $ssl_session_reused always;
--- run
for my $tls ('1.2', '1.3') {
    my $first = { cert => 'client', token => 'bound', tls => $tls, status => 200 };
    for ([ 'bound', '-', '200' ], [ 'bound', 'client', '200' ], [ 'for:thief', '-', '401 invalid_token certificate_mismatch' ],
         [ 'unbound', '-', '401 invalid_token token_unbound' ],
         # It holds another certificate now, and has not shown it.
         [ 'bound', 'thief', '200' ], [ 'for:thief', 'thief', '401 invalid_token certificate_mismatch' ]) {
        my ($token, $cert, $expected) = @$_;
        my (undef, $second) = resumed($first, { cert => $cert, token => $token });
        check($second, $expected, "TLS $tls: $token with $cert");
    }
}
--- no_error_log
[error]

=== TEST 2: 8705-3-a: a resumed session has the certificate of its handshake: tickets
--- http_config
ssl_session_cache off;
--- tls
add_header X-Reused $ssl_session_reused always;
--- run
for my $tls ('1.2', '1.3') {
    my $first = { cert => 'client', token => 'bound', tls => $tls, status => 200 };
    for ([ 'bound', '-', '200' ], [ 'for:thief', '-', '401 invalid_token certificate_mismatch' ]) {
        my ($token, $cert, $expected) = @$_;
        my (undef, $second) = resumed($first, { cert => $cert, token => $token });
        check($second, $expected, "TLS $tls: $token with $cert");
    }
}
--- no_error_log
[error]

=== TEST 3: the same from the variable
--- http_config
ssl_session_cache shared:tls:1m;
--- engine
kb = engine({}, { certificate_source = "variable" })
--- tls
add_header X-Reused $ssl_session_reused always;
--- run
for my $tls ('1.2', '1.3') {
    my $first = { cert => 'client', token => 'bound', tls => $tls, status => 200 };
    for ([ 'bound', '-', '200' ], [ 'for:thief', 'thief', '401 invalid_token certificate_mismatch' ]) {
        my ($token, $cert, $expected) = @$_;
        my (undef, $second) = resumed($first, { cert => $cert, token => $token });
        check($second, $expected, "TLS $tls: $token with $cert");
    }
}
--- no_error_log
[error]

=== TEST 4: a session made without a certificate stays without one
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
add_header X-Reused $ssl_session_reused always;
--- run
for my $tls ('1.2', '1.3') {
    my (undef, $second) = resumed({ token => 'bound', tls => $tls, status => 401 }, { cert => 'client', token => 'bound' });
    check($second, '401 invalid_token certificate_missing', "TLS $tls: the certificate comes too late");
    log_mark();
    check(scalar s_client(cert => 'client', token => 'bound', tls => $tls), '200', "TLS $tls: a full handshake shows it");
}
--- no_error_log
[error]

=== TEST 5: a refused request does not spoil the session
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
add_header X-Reused $ssl_session_reused always;
--- run
for my $tls ('1.2', '1.3') {
    my (undef, $second) = resumed({ cert => 'client', token => 'for:thief', tls => $tls, status => 401 }, { token => 'bound' });
    check($second, '200', "TLS $tls");
}
--- no_error_log
[error]

=== TEST 6: a certificate that expires on the way: on a kept connection and on a resumed session; nginx still says SUCCESS
--- http_config
ssl_session_cache shared:tls:1m;
--- engine
checked = engine { client_certificate_validity = true }
unchecked = engine()
--- tls
ssl_client_certificate $PKI/ca.crt;
ssl_verify_client optional_no_ca;
add_header X-Reused $ssl_session_reused always;
add_header X-Verify $ssl_client_verify always;
location = /checked { access_by_lua_block { checked:access() } content_by_lua_block { ngx.say("passed") } }
location = /unchecked { access_by_lua_block { unchecked:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $lives = 3;
short_lived('short', $lives);
my $end = time + $lives + 1;
my %kept = map { ($_ => start_s_client(cert => 'short', token => 'for:short', path => $_, again => $lives + 1)) } '/checked', '/unchecked';
my %saved;
for my $tls ('1.2', '1.3') {
    for my $path ('/checked', '/unchecked') {
        $saved{"$tls$path"} = "$RUN/session$tls" . substr $path, 1;
        my $response = s_client(cert => 'short', token => 'for:short', tls => $tls, path => $path, save => $saved{"$tls$path"});
        is($response->{status}, 200, "TLS $tls, $path: not yet expired");
    }
}
my %expected = ('/checked' => '401 invalid_token certificate_expired', '/unchecked' => '200');
log_mark();
for my $path (sort keys %kept) {
    my ($before, $after) = finish_s_client($kept{$path});
    is($before->{status}, 200, "kept connection, $path: not yet expired");
    check($after, $expected{$path}, "kept connection, $path: expired");
    log_mark();
    is(header($after, 'X-Verify'), 'SUCCESS', 'nginx has not noticed');
}
select undef, undef, undef, 0.05 while time < $end;
for my $tls ('1.2', '1.3') {
    for my $path ('/checked', '/unchecked') {
        log_mark();
        my $response = s_client(token => 'for:short', tls => $tls, path => $path, resume => $saved{"$tls$path"});
        is(header($response, 'X-Reused'), 'r', "TLS $tls, $path: the session is resumed");
        check($response, $expected{$path}, "TLS $tls, $path: expired");
        is(header($response, 'X-Verify'), 'SUCCESS', 'nginx has not noticed');
    }
}
log_mark();
check(call(cert => 'short', token => 'for:short', path => '/unchecked'), '400 nginx', 'a full handshake: nginx refuses');
log_mark();
check(call(cert => 'client', token => 'bound', path => '/checked'), '200', 'a certificate that is valid');
--- timeout: 20
--- no_error_log
[error]

=== TEST 7: certificates that are over or not yet valid are nginx's to refuse, before keybound is asked
--- init
dated('future', 3600, 7200)
--- calls
client  bound       -> 200
expired for:expired -> 400 nginx
future  for:future  -> 400 nginx
expired -           -> 400 nginx
--- no_error_log
[error]

=== TEST 8: error_page 495 and refuse_certificate(): nginx's verdict stands, in keybound's form
--- init
dated('future', 3600, 7200)
--- tls
error_page 495 496 = @certificate;
location @certificate { access_by_lua_block { kb:refuse_certificate() } }
--- calls
expired for:expired -> 401 invalid_token certificate_refused
expired bound       -> 401 invalid_token certificate_refused
expired -           -> 401 invalid_token certificate_refused
future  for:future  -> 401 invalid_token certificate_refused
client  bound       -> 200
self-signed for:self-signed -> 200
expired for:expired method=POST data=a=b h2 -> 401 invalid_token certificate_refused
expired for:expired method=HEAD -> 401 invalid_token certificate_refused
expired for:expired path=/?access_token=x -> 401 invalid_token certificate_refused
thief   bound       -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 9: client_certificate_validity where error_page 495 leads to access(), which overrules nginx: the dates decide
--- init
dated('future', 3600, 7200)
--- engine
kb = engine { client_certificate_validity = true }
--- tls
error_page 495 496 = @certificate;
location @certificate {
    access_by_lua_block { kb:access() }
    content_by_lua_block { ngx.say("passed") }
}
--- calls
expired for:expired -> 401 invalid_token certificate_expired
future  for:future  -> 401 invalid_token certificate_not_yet_valid
expired bound       -> 401 invalid_token certificate_mismatch
client  bound       -> 200
--- no_error_log
[error]

=== TEST 10: client_certificate_validity from the variable, and in modes optional and off
--- engine
kb = engine({ client_certificate_validity = true, proof_of_possession_mtls = "off" }, { certificate_source = "variable" })
optional = engine({ client_certificate_validity = true, proof_of_possession_mtls = "optional" })
--- tls
error_page 495 496 = @certificate;
location @certificate { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } }
location /optional { access_by_lua_block { optional:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
expired unbound -> 401 invalid_token certificate_expired
expired bound   -> 401 invalid_token certificate_expired
client  unbound -> 200
-       unbound -> 200
client  unbound path=/optional -> 200
-       unbound path=/optional -> 200
--- no_error_log
[error]

=== TEST 11: ssl_verify_client on, with refuse_certificate(): the check of the chain is not undone
--- engine
kb = engine { realm = "api" }
--- realm: api
--- tls
ssl_verify_client on;
ssl_client_certificate $PKI/ca.crt;
error_page 495 496 = @certificate;
location @certificate {
    access_by_lua_block { kb:refuse_certificate() }
    log_by_lua_block { ngx.log(ngx.NOTICE, "seen: ", ngx.ctx.keybound.reason, " ", tostring(ngx.ctx.keybound.allowed)) }
}
--- calls
-           bound           -> 401 invalid_token certificate_refused
client      bound           -> 200
thief       for:thief       -> 401 invalid_token certificate_refused
self-signed for:self-signed -> 401 invalid_token certificate_refused
rsa         bound           -> 401 invalid_token certificate_mismatch
--- error_log
seen: certificate_refused false
--- no_error_log
[error]

=== TEST 12: HTTP/2: streams of one connection, each decided by its token
--- run
my @expected = (
    [ 'bound', '200' ], [ 'for:thief', '401 invalid_token certificate_mismatch' ], [ '-', '401 - no_token' ],
    [ 'unbound', '401 invalid_token token_unbound' ], [ 'bound', '200' ],
);
my @calls = map { { cert => 'client', token => $_->[0], h2 => 1 } } @expected;
my @responses = calls_on_one_connection(@calls);
is(join(' ', map { $_->{connected} } @responses), '1 0 0 0 0', 'one connection');
is(join(' ', map { $_->{status} } @responses), '200 401 401 401 200', 'each by its token');
for (@expected) {
    log_mark();
    my $response = call(cert => 'client', token => $_->[0], h2 => 1);
    check($response, $_->[1], "alone: $_->[0]");
}
--- no_error_log
[error]

=== TEST 13: HTTP/2 and HTTP/1.1 decide alike for other certificates, versions and methods
--- calls
thief  bound h2 tls=1.2             -> 401 invalid_token certificate_mismatch
thief  bound h2 tls=1.3             -> 401 invalid_token certificate_mismatch
-      bound h2                     -> 401 invalid_token certificate_missing
client bound h2 tls=1.2             -> 200
client bound h2 method=POST data=x  -> 200
thief  bound h2 method=POST data=x  -> 401 invalid_token certificate_mismatch
client bound h2 method=HEAD         -> 200
thief  bound h2 method=HEAD         -> 401 invalid_token certificate_mismatch
client bound h2 method=DELETE       -> 200
--- no_error_log
[error]

=== TEST 14: keep-alive: several requests with different tokens on one connection
--- run
my @tokens = ('bound', 'for:thief', 'bound', '-', 'bound', 'unbound', 'junk', 'forged', 'bound');
log_mark();
my @responses = calls_on_one_connection(map { { cert => 'client', token => $_, tls => '1.3' } } @tokens);
is(join(' ', map { $_->{connected} } @responses), '1 0 0 0 0 0 0 0 0', 'one connection');
is(join(' ', map { $_->{status} } @responses), '200 401 200 401 200 401 401 401 200', 'each by its token');
is(join(' ', reasons()), '401 certificate_mismatch 401 no_token 401 token_unbound 401 token_not_jwt 401 signature_invalid', 'for its reason');
--- no_error_log
[error]

=== TEST 15: what is remembered of a connection does not leak into another one
--- run
my %expected = (client => '200', thief => '401 invalid_token certificate_mismatch', '-' => '401 invalid_token certificate_missing');
for my $round (1 .. 12) {
    for my $cert (sort keys %expected) {
        for my $tls ('1.2', '1.3') {
            log_mark();
            check(call(cert => $cert, token => 'bound', tls => $tls), $expected{$cert}, "round $round: $cert");
        }
    }
}
--- no_error_log
[error]

=== TEST 16: nor do connections that are open at the same time
--- run
my @seen = at_once(40, map { { cert => $_, token => 'bound' } } 'client', 'thief', '-', 'rsa');
is(json(\@seen), '[{"200":40},{"401":40},{"401":40},{"401":40}]', 'each by its certificate');
--- no_error_log
[error]
[alert]

=== TEST 17: nor with the variable
--- engine
kb = engine({}, { certificate_source = "variable" })
--- run
my @seen = at_once(40, map { { cert => $_, token => 'bound' } } 'client', 'thief', '-', 'rsa');
is(json(\@seen), '[{"200":40},{"401":40},{"401":40},{"401":40}]', 'each by its certificate');
--- no_error_log
[error]
[alert]

=== TEST 18: two virtual hosts: the policy is that of the host that answers
--- engine
strict = engine()
optional = engine { proof_of_possession_mtls = "optional" }
--- tls
location / { access_by_lua_block { strict:access() } content_by_lua_block { ngx.say("strict") } }
--- servers
server {
    listen $TLS ssl http2;
    server_name b.test;
    ssl_certificate $PKI/server.crt;
    ssl_certificate_key $PKI/server.key;
    ssl_verify_client optional_no_ca;
    location / { access_by_lua_block { optional:access() } content_by_lua_block { ngx.say("optional") } }
}
--- calls
client bound   host=api.test -> 200
client unbound host=api.test -> 401 invalid_token token_unbound
client bound   host=b.test   -> 200
client unbound host=b.test   -> 200
thief  bound   host=b.test   -> 401 invalid_token certificate_mismatch
# nginx keeps a connection that was verified for one host from another one that asks for certificates
client unbound host=api.test "header=Host: b.test" -> 421 nginx
client unbound host=b.test "header=Host: api.test" -> 421 nginx
client unbound host=b.test "header=Host: api.test" h2 -> 421 nginx
--- no_error_log
[error]

=== TEST 19: a host that asks for no certificate, reached over a connection of one that does: the certificate still binds
--- engine
kb = engine()
--- tls
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("asks") } }
--- servers
server {
    listen $TLS ssl http2;
    server_name a.test;
    ssl_certificate $PKI/server.crt;
    ssl_certificate_key $PKI/server.key;
    location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("does not ask") } }
}
--- calls
client bound host=a.test                              -> 401 invalid_token certificate_missing
client bound host=api.test "header=Host: a.test"      -> 200
client bound host=api.test "header=Host: a.test" h2   -> 200
thief  bound host=api.test "header=Host: a.test"      -> 401 invalid_token certificate_mismatch
-      bound host=api.test "header=Host: a.test"      -> 401 invalid_token certificate_missing
client bound host=a.test "header=Host: api.test"      -> 421 nginx
client bound host=api.test                            -> 200
--- no_error_log
[error]

=== TEST 20: a session of one host resumed for another one
--- engine
kb = engine()
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
add_header X-Reused $ssl_session_reused always;
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("asks") } }
--- servers
server {
    listen $TLS ssl http2;
    server_name a.test;
    ssl_certificate $PKI/server.crt;
    ssl_certificate_key $PKI/server.key;
    add_header X-Reused $ssl_session_reused always;
    location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("does not ask") } }
}
--- run
for my $tls ('1.2', '1.3') {
    my $session = "$RUN/host$tls";
    # From the host that asks to the one that does not.
    s_client(cert => 'client', token => 'bound', tls => $tls, save => $session);
    for (['bound', '200'], ['for:thief', '401 invalid_token certificate_mismatch']) {
        my ($token, $expected) = @$_;
        log_mark();
        check(scalar s_client(host => 'a.test', token => $token, tls => $tls, resume => $session), $expected, "TLS $tls: $token");
    }
    # And back: a session without certificate gets nobody in.
    s_client(host => 'a.test', token => 'bound', tls => $tls, save => $session);
    my $response = s_client(cert => 'client', token => 'bound', tls => $tls, resume => $session);
    is($response->{status} // 'no answer', $tls eq '1.2' ? 421 : 'no answer', "TLS $tls: nginx refuses");
    log_mark();
    check(scalar s_client(cert => 'client', token => 'bound', tls => $tls), '200', "TLS $tls: a handshake with that host");
}
--- no_error_log
[error]

=== TEST 21: plain HTTP has no certificate
--- engine
kb = engine()
optional = engine { proof_of_possession_mtls = "optional" }
variable = engine({}, { certificate_source = "variable" })
off = engine { proof_of_possession_mtls = "off", client_certificate_validity = true }
--- config
location /optional { access_by_lua_block { optional:access() } content_by_lua_block { ngx.say("passed") } }
location /variable { access_by_lua_block { variable:access() } content_by_lua_block { ngx.say("passed") } }
location /off { access_by_lua_block { off:access() } content_by_lua_block { ngx.say("passed") } }
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
client bound                      -> 200
-      bound plain                -> 401 invalid_token certificate_missing
-      unbound plain              -> 401 invalid_token token_unbound
-      bound plain path=/variable -> 401 invalid_token certificate_missing
-      bound plain path=/optional -> 401 invalid_token certificate_missing
-      unbound plain path=/optional -> 200
-      bound plain path=/off      -> 200
-      - plain                    -> 401 - no_token
client bound                      -> 200
--- no_error_log
[error]
[alert]

=== TEST 22: 8705-3-a: headers that name a certificate are nobody's: SSL object
--- run
my $pem = read_file("$PKI/client.crt");
(my $escaped = $pem) =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ge;
(my $folded = $pem) =~ s/\n/ /g;
my ($base64) = $pem =~ /-----\n(.*)-----END/s;
$base64 =~ s/\n//g;
my $x5t = thumbprint('client');
my @headers = ("X-SSL-Client-Cert: $escaped", "X-SSL-Client-Cert: $folded", "ssl-client-cert: $escaped", "Client-Cert: :$base64:",
    "Client-Cert-Chain: :$base64:", "X-Forwarded-Client-Cert: Hash=$x5t;Cert=\"$escaped\"", "X-Client-Cert: $base64",
    "X-Forwarded-Tls-Client-Cert: $base64", "X-ARR-ClientCert: $base64", "Ssl-Client-Raw-Cert: $escaped",
    "X-SSL-Client-SHA256: $x5t", "x5t: $x5t");
for (['thief', '401 invalid_token certificate_mismatch'], ['-', '401 invalid_token certificate_missing'], ['client', '200']) {
    my ($cert, $expected) = @$_;
    for my $header (@headers) {
        log_mark();
        check(call(cert => $cert, token => 'bound', headers => [$header]), $expected, "$cert, " . substr $header, 0, 28);
    }
    log_mark();
    check(call(cert => $cert, token => 'bound', headers => \@headers), $expected, "$cert, all of them");
}
--- no_error_log
[error]

=== TEST 23: 8705-3-a: headers that name a certificate are nobody's: variable and plain HTTP
--- engine
kb = engine({}, { certificate_source = "variable" })
--- config
location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } }
--- run
(my $escaped = read_file("$PKI/client.crt")) =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ge;
my @headers = map { "$_: $escaped" } 'X-SSL-Client-Cert', 'Ssl-Client-Raw-Cert', 'Ssl-Client-Escaped-Cert', 'ssl-client-cert', 'Client-Cert';
for (['thief', '401 invalid_token certificate_mismatch'], ['-', '401 invalid_token certificate_missing'], ['client', '200']) {
    my ($cert, $expected) = @$_;
    log_mark();
    check(call(cert => $cert, token => 'bound', headers => \@headers), $expected, $cert);
}
log_mark();
check(call(plain => 1, token => 'bound', headers => \@headers), '401 invalid_token certificate_missing', 'plain HTTP');
--- no_error_log
[error]

=== TEST 24: early data proves no key: 425; the same session without it passes
--- http_config
ssl_session_cache shared:tls:1m;
--- engine
kb = engine()
optional = engine({ proof_of_possession_mtls = "optional" }, { certificate_source = "variable" })
off = engine { proof_of_possession_mtls = "off" }
off_variable = engine({ proof_of_possession_mtls = "off" }, { certificate_source = "variable" })
--- tls
ssl_early_data on;
add_header X-Reused $ssl_session_reused always;
add_header X-Early $ssl_early_data always;
location /optional { access_by_lua_block { optional:access() } content_by_lua_block { ngx.say("passed") } }
location /off { access_by_lua_block { off:access() } content_by_lua_block { ngx.say("passed") } }
location /off-variable { access_by_lua_block { off_variable:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $session = "$RUN/early-session";
for (['/', 'bound', '425 - early_data'], ['/optional', 'bound', '425 - early_data'], ['/optional', 'unbound', '425 - early_data'],
     ['/', '-', '401 - no_token'], ['/off', 'bound', '200'], ['/off-variable', 'unbound', '200']) {
    my ($path, $token, $expected) = @$_;
    my %call = (path => $path, token => $token, tls => '1.3');
    my $response;
    # Each session can send early data once. When nginx is slow, the handshake is over before it reads the request.
    for (1 .. 30) {
        s_client(%call, cert => 'client', save => $session);
        log_mark();
        $response = s_client(%call, resume => $session, early => 1);
        last if header($response, 'X-Early');
    }
    is(header($response, 'X-Early'), '1', "$path: early data");
    check($response, $expected, "$path: $token in early data");
    s_client(%call, cert => 'client', save => $session);
    log_mark();
    $response = s_client(%call, resume => $session);
    is(header($response, 'X-Reused'), 'r', "$path: resumed");
    check($response, $expected =~ /425/ ? '200' : $expected, "$path: $token without early data");
}
--- no_error_log
[error]

=== TEST 25: asks_certificate(): whether the connection asks its client for a certificate
--- http_config
ssl_session_cache shared:tls:1m;
--- tls_only
ssl_verify_client off;
add_header X-Reused $ssl_session_reused always;
location / { content_by_lua_block { ngx.say("off ", tostring(require("resty.keybound").asks_certificate())) } }
--- servers
server {
    listen $TLS ssl;
    server_name asks.test;
    ssl_certificate $PKI/server.crt;
    ssl_certificate_key $PKI/server.key;
    ssl_verify_client optional_no_ca;
    location / { content_by_lua_block { ngx.say("asks ", tostring(require("resty.keybound").asks_certificate())) } }
}
--- config
location / { content_by_lua_block { ngx.say("plain ", tostring(require("resty.keybound").asks_certificate())) } }
--- run
for my $tls ('1.2', '1.3') {
    for my $cert (qw(client -)) {
        for my $h2 (0, 1) {
            my %call = (cert => $cert, tls => $tls, h2 => $h2);
            is(call(%call)->{body}, "off false\n", "TLS $tls: never asked, $cert");
            like(s_client(cert => $cert, tls => $tls, sni => 'asks.test', host => 'asks.test')->{body}, qr/^asks true$/m, "TLS $tls: asked, $cert");
        }
    }
    # What the first handshake asked is not told by a resumed one.
    my @responses = resumed({ cert => '-', tls => $tls, status => 200 }, { cert => '-' });
    is(join(' ', map { $_->{body} =~ /^(off \w+)$/m } @responses), 'off false off true', "TLS $tls: resumed");
}
is(call(plain => 1)->{body}, "plain nil\n", 'plain HTTP');
--- no_error_log
[error]
