# Who is let through by the plugin: the binding, however the connection came to its certificate, and whichever instance of the plugin
# the request meets.
use Kong;
use Test::Nginx::Socket 'no_plan';

# table(NAME, ROWS, %call...): requests as in `calls`, each made in all of these ways
sub table {
    my ($name, $rows, @ways) = @_;
    for my $way (@ways) {
        for (split /\n/, $rows) {
            my ($cert, $token, $expected) = /^(\S+)\s+(\S+)\s+->\s+(.*?)\s*$/ or die "no row: $_\n";
            log_mark();
            check(call(cert => $cert, token => $token, %$way), $expected, "$name " . json($way) . ": $cert $token");
        }
    }
}
our @EVERY_WAY = map { my $tls = $_; map { { tls => $tls, h2 => $_ } } 0, 1 } '1.2', '1.3';

# What must come of certificate and token, whatever the way.
our $BINDING = <<'EOT';
client      bound           -> 200
-           bound           -> 401 invalid_token certificate_missing
thief       bound           -> 401 invalid_token certificate_mismatch
same-name   bound           -> 401 invalid_token certificate_mismatch
client      for:thief       -> 401 invalid_token certificate_mismatch
client      unbound         -> 401 invalid_token token_unbound
-           unbound         -> 401 invalid_token token_unbound
client      forged          -> 401 invalid_token signature_invalid
client      expired         -> 401 invalid_token token_expired
client      other_audience  -> 401 invalid_token audience_mismatch
client      junk            -> 401 invalid_token token_not_jwt
client      -               -> 401 - no_token
-           -               -> 401 - no_token
EOT

# How often the log says that the listener asks nobody for certificates.
sub warnings { return scalar(() = read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log") =~ /never asks its clients for a certificate/g) }

# For `resumed`: whether there is a chain, and how the session came about.
our $TELLING = { name => 'probe', config => { access => <<'EOL' } };
local chain = kong.client.tls.get_full_client_certificate_chain()
kong.response.set_header("X-Chain", chain and "there" or "none")
EOL
our $REUSED = 'add_header X-Reused $ssl_session_reused always;';

# resumed(TLS): what comes of tokens on a session that was resumed, without the certificate or with another
sub resumed {
    my ($tls) = @_;
    my $session = "$RUN/session.$tls";
    my $first = s_client(cert => 'client', token => 'bound', tls => $tls, save => $session);
    is(join(' ', $first->{status}, map { scalar header($first, $_) } qw(X-Reused X-Chain)), '200 . there', "$tls: a full handshake");
    for (['-', 'bound', '200'], ['thief', 'bound', '200'], ['-', 'for:thief', '401 invalid_token certificate_mismatch'],
         ['thief', 'for:thief', '401 invalid_token certificate_mismatch'], ['-', 'unbound', '401 invalid_token token_unbound']) {
        my ($cert, $token, $expected) = @$_;
        log_mark();
        my $response = s_client(cert => $cert, token => $token, tls => $tls, resume => $session);
        check($response, $expected, "$tls: $token with $cert");
        is(scalar header($response, 'X-Reused'), 'r', "$tls: the session is resumed");
        is(scalar header($response, 'X-Chain'), 'none', "$tls: without a chain") if $response->{status} == 200;
    }
    s_client(token => 'bound', tls => $tls, save => $session);
    log_mark();
    check(scalar s_client(cert => 'client', token => 'bound', tls => $tls, resume => $session), '401 invalid_token certificate_missing', "$tls: it began without one");
}

# The gateway as a client of the authorization server, with mutual TLS and a certificate from files.
sub introspecting {
    return keybound(issuer => '$AS', jwks => undef, ssl_trusted_certificate => '$PKI/ca.crt', client_id => ['gateway'], client_auth => ['tls_client_auth'],
        tls_client_auth_cert_id => 'gateway', client_certificates => { gateway => { certificate => '$PKI/gateway.crt', private_key => '$PKI/gateway.key' } }, @_);
}
our $MIXED = <<'EOT';
client      as:client     -> 200
client      opaque:client -> 200
thief       as:client     -> 401 invalid_token certificate_mismatch
thief       opaque:client -> 401 invalid_token certificate_mismatch
thief       opaque:thief  -> 200
-           as:client     -> 401 invalid_token certificate_missing
-           opaque:client -> 401 invalid_token certificate_missing
client      opaque:thief  -> 401 invalid_token certificate_mismatch
client      opaque_free   -> 401 invalid_token token_unbound
client      junk          -> 401 invalid_token token_inactive
EOT

run_tests();

__DATA__

=== TEST 1: the binding decides: TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2, and only a global instance asks for certificates
--- kong eval
+{ plugins => [main::keybound()] }
--- run
table('3.9', $BINDING, @EVERY_WAY);
is(warnings(), 0, 'the listener asks');
--- timeout: 20
--- no_error_log
[error]

=== TEST 2: the same in 3.4, where the certificate comes from the variable
--- flavour: 3.4
--- rebuild
--- kong eval
+{ plugins => [main::keybound()] }
--- run
table('3.4', $BINDING, @EVERY_WAY);
is(warnings(), 0, 'the listener asks');
--- timeout: 20
--- no_error_log
[error]

=== TEST 3: whoever signed the certificate, and whatever its dates and key: nobody verifies it, the token names it
--- init
dated('future', 3600, 7200);
--- kong eval
+{ plugins => [main::keybound()] }
--- calls
self-signed for:self-signed -> 200
thief       for:thief       -> 200
rsa         for:rsa         -> 200
ed25519     for:ed25519     -> 200
expired     for:expired     -> 200
future      for:future      -> 200
self-signed bound           -> 401 invalid_token certificate_mismatch
expired     for:future      -> 401 invalid_token certificate_mismatch
future      bound           -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 4: but with client_certificate_validity its dates count
--- init
dated('future', 3600, 7200);
--- kong eval
+{ plugins => [main::keybound(client_certificate_validity => JSON::PP::true)] }
--- calls
client  bound       -> 200
expired for:expired -> 401 invalid_token certificate_expired
future  for:future  -> 401 invalid_token certificate_not_yet_valid
--- no_error_log
[error]

=== TEST 5: only x5t#S256 alone, and canonical, is a binding
--- kong eval
+{ plugins => [main::keybound()] }
--- tokens eval
my %cnf = (right => { 'x5t#S256' => main::thumbprint('client') }, none => {}, key => { jkt => main::thumbprint('thief') }, text => main::thumbprint('client'),
    both => { 'x5t#S256' => main::thumbprint('client'), jkt => main::thumbprint('thief') }, padded => { 'x5t#S256' => main::thumbprint('client') . '=' }, null => undef);
+{ map { $_ => { claims => { cnf => $cnf{$_} } } } keys %cnf }
--- calls
client right  -> 200
client none   -> 401 invalid_token confirmation_malformed
client key    -> 401 invalid_token confirmation_unsupported
client both   -> 401 invalid_token confirmation_unsupported
client padded -> 401 invalid_token confirmation_malformed
client text   -> 401 invalid_token confirmation_malformed
client null   -> 401 invalid_token confirmation_malformed
--- no_error_log
[error]

=== TEST 6: each request of a kept connection is decided anew
--- kong eval
+{ plugins => [main::keybound()] }
--- run
my @expected = (['bound', 200], ['for:thief', 401], ['-', 401], ['unbound', 401], ['bound', 200], ['forged', 401], ['bound', 200]);
for my $way (@EVERY_WAY) {
    for my $cert ('client', 'thief') {
        log_mark();
        my @responses = calls_on_one_connection(map { { %$way, cert => $cert, token => $_->[0] } } @expected);
        my $name = json($way) . " $cert";
        is(join(' ', map { $_->{connected} } @responses), '1 0 0 0 0 0 0', "$name: one connection");
        is(join(' ', map { $_->{status} } @responses), $cert eq 'client' ? '200 401 401 401 200 401 200' : '401 200 401 401 401 401 401', "$name: by token");
        is(scalar(() = reasons()), $cert eq 'client' ? 4 : 6, "$name: each refusal is logged");
    }
}
--- no_error_log
[error]

=== TEST 7: a resumed session has the certificate of its handshake, though no chain
--- tls eval: $main::REUSED
--- kong eval
+{ plugins => [main::keybound(), $main::TELLING] }
--- run
resumed($_) for '1.2', '1.3';
--- no_error_log
[error]

=== TEST 8: the same in 3.4, and from the cache without tickets
--- flavour: 3.4
--- tls eval: "$main::REUSED ssl_session_tickets off;"
--- kong eval
+{ plugins => [main::keybound(), $main::TELLING] }
--- run
resumed($_) for '1.2', '1.3';
--- no_error_log
[error]

=== TEST 9: plain HTTP has no certificate; what needs none passes there
--- kong eval
+{ plugins => [main::keybound()], main::routes(strict => [main::keybound()], optional => [main::keybound(proof_of_possession_mtls => 'optional')], off => [main::keybound(proof_of_possession_mtls => 'off')]) }
--- tokens eval
+{ forged_free => { key => 'rogue' } }
--- calls
client bound  path=/strict/        -> 200
- bound   plain path=/strict/   -> 401 invalid_token certificate_missing
- unbound plain path=/strict/   -> 401 invalid_token token_unbound
- bound   plain path=/optional/ -> 401 invalid_token certificate_missing
- unbound plain path=/optional/ -> 200
- forged_free plain path=/optional/ -> 401 invalid_token signature_invalid
- bound   plain path=/off/      -> 200
- -       plain path=/off/      -> 401 - no_token
--- error_log
plain HTTP has no certificates
--- no_error_log
[error]

=== TEST 10: an instance of a route or a service asks nobody: refused, and the log says once what is missing
--- kong eval
+{ services => [{ name => 's', plugins => [main::keybound()], routes => [{ name => 'a', paths => ['/service'] }, { name => 'r', paths => ['/route/'], plugins => [main::keybound()] }] }] }
--- run
for my $path ('/route/', '/service', '/route/') {
    table($path, "client bound -> 401 invalid_token certificate_missing\nclient unbound -> 401 invalid_token token_unbound", map { { %$_, path => $path } } @EVERY_WAY);
}
is(warnings(), 1, 'one warning');
--- timeout: 20
--- error_log
enable the plugin globally, or set nginx_proxy_ssl_verify_client = optional_no_ca in kong.conf
--- no_error_log
[error]

=== TEST 11: nor does a global instance in mode off, for it needs none
--- kong eval
+{ plugins => [main::keybound(proof_of_possession_mtls => 'off')], main::routes(strict => [main::keybound()]) }
--- run
table('off', "client bound -> 401 invalid_token certificate_missing\n", map { { %$_, path => '/strict/' } } @EVERY_WAY);
is(warnings(), 1, 'one warning');
kong_reload({ plugins => [keybound(proof_of_possession_mtls => 'optional')], routes(strict => [keybound()]) });
table('optional', "client bound -> 200\n- bound -> 401 invalid_token certificate_missing", map { { %$_, path => '/strict/' } } @EVERY_WAY);
--- no_error_log
[error]

=== TEST 12: the same warning in 3.4, whose nginx does not tell whom it asks
--- flavour: 3.4
--- kong eval
+{ plugins => [main::keybound(proof_of_possession_mtls => 'off')], main::routes(strict => [main::keybound()]) }
--- run
table('off', "client bound -> 401 invalid_token certificate_missing\n", map { { %$_, path => '/strict/' } } @EVERY_WAY);
is(warnings(), 1, 'one warning');
--- no_error_log
[error]

=== TEST 13: where nginx asks, an instance of a route or a service sees the certificate, and nothing is warned of; of dates nginx judges
--- listener: optional_no_ca
--- kong eval
+{ services => [{ name => 's', plugins => [main::keybound()], routes => [{ name => 'a', paths => ['/service'] }, { name => 'r', paths => ['/route/'], plugins => [main::keybound()] }] }] }
--- run
table($_, $BINDING, { path => $_ }) for '/service', '/route/';
table('/route/', "self-signed for:self-signed -> 200\nthief for:thief -> 200\nexpired for:expired -> 400 nginx\nthief bound -> 401 invalid_token certificate_mismatch", map { { %$_, path => '/route/' } } @EVERY_WAY);
is(warnings(), 0, 'no warning');
--- timeout: 20
--- no_error_log
[error]

=== TEST 14: the same in 3.4
--- flavour: 3.4
--- listener: optional_no_ca
--- kong eval
+{ main::routes(route => [main::keybound()]) }
--- run
table('3.4', $BINDING, { path => '/route/' });
is(warnings(), 0, 'no warning');
--- no_error_log
[error]

=== TEST 15: likewise where another plugin asks in the handshake
--- listener: asks
--- kong eval
+{ main::routes(route => [main::keybound()]) }
--- run
table('asks', "client bound -> 200\n- bound -> 401 invalid_token certificate_missing\nthief bound -> 401 invalid_token certificate_mismatch", map { { %$_, path => '/route/' } } @EVERY_WAY);
is(warnings(), 0, 'no warning');
--- no_error_log
[error]

=== TEST 16: where nginx verifies by a CA, its refusal comes before any plugin
--- listener: optional
--- kong eval
+{ main::routes(route => [main::keybound()]) }
--- calls
client  bound       path=/route/ -> 200
rsa     for:rsa     path=/route/ -> 200
rsa     bound       path=/route/ -> 401 invalid_token certificate_mismatch
-       bound       path=/route/ -> 401 invalid_token certificate_missing
thief   for:thief   path=/route/ -> 400 nginx
thief   for:thief   path=/route/ h2 -> 400 nginx
expired for:expired path=/route/ -> 400 nginx
self-signed -       path=/route/ tls=1.2 -> 400 nginx
--- no_error_log
[error]

=== TEST 17: a global instance does not lift that
--- listener: optional
--- kong eval
+{ plugins => [main::keybound()] }
--- calls
client  bound       -> 200
-       bound       -> 401 invalid_token certificate_missing
rsa     bound       -> 401 invalid_token certificate_mismatch
thief   for:thief   -> 400 nginx
thief   for:thief   tls=1.2 -> 400 nginx
--- no_error_log
[error]

=== TEST 18: each route has its own mode, at once; on one connection, too
--- kong eval
+{ plugins => [main::keybound()], main::routes(strict => [main::keybound()], optional => [main::keybound(proof_of_possession_mtls => 'optional')], off => [main::keybound(proof_of_possession_mtls => 'off')]) }
--- run
my %expected = ('bound client' => '200 200 200', 'bound -' => '401 401 200', 'bound thief' => '401 401 200', 'unbound client' => '401 200 200',
    'unbound -' => '401 200 200', 'forged client' => '401 401 401', 'junk client' => '401 401 401');
for my $h2 (0, 1) {
    for my $case (sort keys %expected) {
        my ($token, $cert) = split / /, $case;
        my @calls = map { { cert => $cert, token => $token, path => "/$_/", h2 => $h2 } } qw(strict optional off) x 2;
        is(join(' ', map { $_->{status} } calls_on_one_connection(@calls)), "$expected{$case} $expected{$case}", "$case, h2 $h2: strict, optional, off");
    }
}
--- no_error_log
[error]

=== TEST 19: the most specific instance decides, alone: route, then service, then global
--- kong eval
my $of = sub { return main::keybound(audience_required => ["https://$_[0].test"]) };
+{ plugins => [$of->('global')], services => [
    { name => 'a', plugins => [$of->('service')], routes => [{ name => 'ar', paths => ['/a/r'], plugins => [$of->('route')] }, { name => 'a', paths => ['/a'] }] },
    { name => 'b', routes => [{ name => 'b', paths => ['/b'] }] }] }
--- tokens eval
+{ map { ($_ => { for => 'client', claims => { aud => "https://$_.test" } }) } qw(global service route) }
--- calls
client route   path=/a/r -> 200
client service path=/a/r -> 401 invalid_token audience_mismatch
client global  path=/a/r -> 401 invalid_token audience_mismatch
client service path=/a   -> 200
client route   path=/a   -> 401 invalid_token audience_mismatch
client global  path=/a   -> 401 invalid_token audience_mismatch
client global  path=/b   -> 200
client service path=/b   -> 401 invalid_token audience_mismatch
thief  route   path=/a/r -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 20: JWTs and opaque tokens of a real authorization server, which the gateway asks over mutual TLS
--- kong eval
+{ plugins => [main::introspecting()] }
--- tokens eval
+{ opaque_free => { as => 'unbound', resource => 'opaque' } }
--- run
as_control('/log/clear');
table('mixed', $MIXED, { h2 => 0 }, { h2 => 1 });
my @asked = asked('/token/introspection');
is(scalar @asked, 4, 'opaque tokens only, each once');
is(join(' ', map { "$_->{port} $_->{client_id} $_->{certificate}{'x5t#S256'}" } @asked), join(' ', ('mtls gateway ' . thumbprint('gateway')) x 4), 'by whom');
--- timeout: 20
--- no_error_log
[error]

=== TEST 21: the same in 3.4, at a route
--- flavour: 3.4
--- rebuild
--- listener: optional_no_ca
--- kong eval
+{ main::routes(route => [main::introspecting()]) }
--- tokens eval
+{ opaque_free => { as => 'unbound', resource => 'opaque' } }
--- run
as_control('/log/clear');
table('mixed', $MIXED, { path => '/route/' }, { path => '/route/', tls => '1.2' });
is(scalar(() = asked('/token/introspection')), 4, 'opaque tokens only, each once');
--- timeout: 20
--- no_error_log
[error]

=== TEST 22: auth_methods say what is a token, on each route
--- listener: optional_no_ca
--- kong eval
+{ main::routes(both => [main::introspecting()], bearer => [main::keybound(issuer => '$AS', jwks => undef, ssl_trusted_certificate => '$PKI/ca.crt', auth_methods => ['bearer'])],
    introspection => [main::introspecting(auth_methods => ['introspection'])]) }
--- run
my %expected = ('/both/' => ['200', '200'], '/bearer/' => ['200', '401 invalid_token token_not_jwt'], '/introspection/' => ['503 - introspection_unavailable', '200']);
# This server does not introspect JWTs, and says so.
my %asked = ('/both/' => 1, '/bearer/' => 0, '/introspection/' => 2);
for my $path (sort keys %expected) {
    define(jwt => { as => 'any', cert => 'client' }, opaque => { as => 'any', cert => 'client', resource => 'opaque' });
    as_control('/log/clear');
    table($path, "client jwt -> $expected{$path}[0]\nclient opaque -> $expected{$path}[1]", { path => $path });
    is(scalar(() = asked('/token/introspection')), $asked{$path}, "$path: asked");
}
--- no_error_log
[error]
