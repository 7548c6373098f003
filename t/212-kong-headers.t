# Headers that the plugin gives to the upstream and to the client: which, of what, and that the upstream gets them of nobody else.
use Kong;
use Test::Nginx::Socket 'no_plan';

our %DETAILS = (
    client_cert_header_name => 'X-Client-Cert', client_serial_header_name => 'X-Client-Cert-Serial',
    client_cert_issuer_dn_header_name => 'X-Client-Cert-Issuer-DN', client_cert_subject_dn_header_name => 'X-Client-Cert-Subject-DN',
    client_cert_fingerprint_header_name => 'X-Client-Cert-Fingerprint', client_cert_thumbprint_header_name => 'X-Client-Cert-Thumbprint',
);
our @IDENTITY = qw(X-Consumer-ID X-Consumer-Custom-ID X-Consumer-Username X-Credential-Identifier X-Anonymous-Consumer);
our @CLAIMS = (upstream_headers_claims => ['sub', 'email'], upstream_headers_names => ['X-User', 'X-Email']);
our $ALICE = '8c69843e-7883-490c-8f9d-cf1a4e16adb4';
our $GUEST = '9c69843e-7883-490c-8f9d-cf1a4e16adb4';
our @CONSUMERS = (consumers => [{ id => $ALICE, username => 'alice', custom_id => 'a-1' }, { id => $GUEST, username => 'guest' }]);

# What openssl has to say of a certificate, as the lines of upstream_saw; %more: names of headers in place of the defaults.
my %said;
sub details {
    my ($cert, %more) = @_;
    my $said = $said{$cert} //= Keybound::_output('', qw(openssl x509 -serial -issuer -subject -fingerprint -sha1 -nameopt RFC2253 -in), "$PKI/$cert.crt");
    my %value = (
        client_cert_header_name => $said =~ s/^.*?(?=-----BEGIN)//sr =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger,
        client_serial_header_name => $said =~ /^serial=(.*)$/m,
        client_cert_issuer_dn_header_name => $said =~ /^issuer=(.*)$/m,
        client_cert_subject_dn_header_name => $said =~ /^subject=(.*)$/m,
        client_cert_fingerprint_header_name => lc($said =~ /^sha1 Fingerprint=(.*)$/mi ? $1 : '') =~ tr/://dr,
        client_cert_thumbprint_header_name => thumbprint($cert),
    );
    my %name = (%DETAILS, %more);
    # nginx sends no header without a value.
    return map { length $value{$_} ? lc($name{$_}) . ": $value{$_}" : () } keys %value;
}
sub lines { return join '|', sort @_ }

# An instance of each way through, behind the path /NAME: its options, what goes before it, and what is called.
sub instance {
    my (%options) = @_;
    return keybound(@CLAIMS, ($options{proof_of_possession_mtls} // '') eq 'off' ? () : (inject_client_cert_details => JSON::PP::true), %options);
}
our ($true, $false) = (JSON::PP::true, JSON::PP::false);
our @BOUND = (cert => 'client', token => 'alice');
our @STOLEN = (cert => 'thief', token => 'alice');
our @KEY = (headers => ['apikey: alice']);
our @OF_ALICE = ("x-consumer-id: $ALICE", 'x-consumer-custom-id: a-1', 'x-consumer-username: alice');
our @OF_GUEST = ("x-consumer-id: $GUEST", 'x-consumer-username: guest', 'x-anonymous-consumer: true');
our @OF_USER = ('x-user: user-1', 'x-credential-identifier: user-1');
our @OF_TOKEN = ('x-user: alice', 'x-email: a@x', 'x-credential-identifier: alice');
our $KEY_AUTH = { name => 'key-auth-probe', config => { anonymous => 'guest' } };
# NAME => [options, call, what the upstream gets, what is before the plugin]
our %WAYS = (
    allowed => [{ consumer_claim => ['sub'] }, { @BOUND }, sub { @OF_ALICE, @OF_TOKEN, details('client') }],
    'without-consumer' => [{}, { @BOUND }, sub { @OF_TOKEN, details('client') }],
    'claim-absent' => [{ credential_claim => ['none'] }, { cert => 'client', token => 'bound' }, sub { 'x-user: user-1', details('client') }],
    'consumer-optional' => [{ consumer_claim => ['sub'], consumer_optional => $true }, { cert => 'client', token => 'bound' }, sub { @OF_USER, details('client') }],
    reported => [{ report_only => $true, anonymous => 'guest' }, { @STOLEN }, sub { }],
    'reported-consumer' => [{ report_only => $true, consumer_claim => ['sub'] }, { cert => 'client', token => 'bound' }, sub { }],
    'reported-dpop' => [{ report_only => $true }, { @BOUND, headers => ['DPoP: a', 'DPoP: b'] }, sub { }],
    preflight => [{ run_on_preflight => $false }, { method => 'OPTIONS', headers => ['Origin: https://a.test', 'Access-Control-Request-Method: PUT'] }, sub { }],
    anonymous => [{ anonymous => 'guest' }, {}, sub { @OF_GUEST }],
    'anonymous-forged' => [{ anonymous => 'guest' }, { cert => 'client', token => 'forged' }, sub { @OF_GUEST }],
    'anonymous-stolen' => [{ anonymous => 'guest', anonymous_on_failed_binding => $true }, { @STOLEN }, sub { @OF_GUEST }],
    introspected => [{ issuer => '$AS', credential_claim => ['client_id'], jwks => undef, ssl_trusted_certificate => '$PKI/ca.crt', client_id => ['gateway-basic'],
        client_auth => ['client_secret_basic'], client_secret => ['gateway-basic-secret'] }, { cert => 'client', token => 'opaque:client' },
        sub { 'x-credential-identifier: any', details('client') }],
    off => [{ proof_of_possession_mtls => 'off' }, { cert => 'client', token => 'unbound' }, sub { @OF_USER }],
    optional => [{ proof_of_possession_mtls => 'optional' }, { cert => 'client', token => 'unbound' }, sub { @OF_USER }],
    'key-auth' => [{ anonymous => 'guest' }, { @KEY }, sub { @OF_ALICE, "x-credential-identifier: $ALICE" }, $KEY_AUTH],
    'key-auth-reported' => [{ report_only => $true }, { @KEY, @STOLEN }, sub { @OF_ALICE, "x-credential-identifier: $ALICE" }, $KEY_AUTH],
    'key-auth-and-token' => [{}, { @KEY, @BOUND }, sub { @OF_ALICE, "x-credential-identifier: $ALICE", 'x-user: alice', 'x-email: a@x', details('client') }, $KEY_AUTH],
    'key-auth-anonymous' => [{}, { @BOUND }, sub { @OF_TOKEN, details('client') }, $KEY_AUTH],
);
sub ways {
    return +{ @CONSUMERS, routes(map { $_ => [instance(%{ $WAYS{$_}[0] }), $WAYS{$_}[3] // ()] } keys %WAYS) };
}
our @DOWN = (downstream_headers_claims => ['sub', 'none', '["cnf","x5t#S256"]'], downstream_headers_names => ['X-Sub', 'X-None', 'X-Bound']);
our $TOKENS = { alice => { for => 'client', claims => { sub => 'alice', email => 'a@x' } } };

# All that an application may take for a name: each hyphen is one, or an underscore.
sub spellings {
    my @all = ('');
    for my $part (split /(-)/, $_[0]) {
        @all = map { my $begun = $_; map { "$begun$_" } $part eq '-' ? qw(- _) : $part } @all;
    }
    return @all;
}
# The headers of requests in which somebody else sends what the plugin is to send: each spelling of each name, once, twice and beside the
# name itself, in one case or another.
our @CASES = (sub { $_[0] }, sub { uc $_[0] }, sub { lc($_[0]) =~ s/(..)/\u$1/gr });
sub spoofed {
    my @names = @_;
    my @requests;
    for my $i (0 .. 15) {
        for my $copy (0 .. 2) {
            my @written = map { my @all = spellings($_); $CASES[($i + $copy) % 3]->($all[$i % @all]) } @names;
            push @requests, [map { "$_: spoofed" } @written, ([], \@written, \@names)[$copy]->@*];
        }
    }
    return @requests;
}
our $ANY = join '|', map { s/-/[-_]/gr } @IDENTITY, values %DETAILS, qw(X-User X-Email);
sub spoof {
    my ($call, @names) = @_;
    my %seen;
    for my $h2 (0, 1) {
        my @calls = map { { %$call, h2 => $h2, headers => [@{ $call->{headers} // [] }, @$_, 'X_Other: arrives'] } } spoofed(@names);
        for my $response (calls_on_one_connection(@calls)) {
            $seen{$_}++ for "$response->{status} " . upstream_saw($response, "$ANY|x_other");
        }
    }
    return join "\n", sort keys %seen;
}

run_tests();

__DATA__

=== TEST 1: no header that the plugin sets comes from the client, whatever comes of the request and however it is written
--- listener: optional_no_ca
--- kong eval: main::ways()
--- tokens eval: $main::TOKENS
--- run
for my $way (sort keys %WAYS) {
    my ($options, $call, $expected) = @{ $WAYS{$way} };
    my @names = (@IDENTITY, qw(X-User X-Email), $way eq 'off' ? () : values %DETAILS);
    is(spoof({ %$call, path => "/$way/" }, @names), '200 ' . lines($expected->(), 'x_other: arrives'), $way);
}
--- no_error_log
[error]

=== TEST 2: in 3.4, with a new configuration table for each request; nor does it come behind many others
--- flavour: 3.4
--- rebuild
--- listener: optional_no_ca
--- kong eval: main::ways()
--- tokens eval: $main::TOKENS
--- run
for my $way (sort keys %WAYS) {
    my ($options, $call, $expected) = @{ $WAYS{$way} };
    my @many = map { sprintf 'X-Any-%03d: x', $_ } 1 .. 120;
    my $response = call(%$call, path => "/$way/", headers => [@{ $call->{headers} // [] }, @many, map { ("$_: spoofed", tr/-/_/r . ': spoofed') } @IDENTITY, 'X-User', 'X-Email']);
    is("$response->{status} " . upstream_saw($response, $ANY), '200 ' . lines($expected->()), $way);
}
--- no_error_log
[error]

=== TEST 3: without the plugin each of these requests would reach the upstream as it is
--- run
my @names = (@IDENTITY, qw(X-User X-Email), values %DETAILS);
my ($n, @lost);
for my $h2 (0, 1) {
    my @requests = spoofed(@names);
    for my $response (calls_on_one_connection(map { { h2 => $h2, headers => $_ } } @requests)) {
        my $sent = lines(map { lc } @{ shift @requests });
        push @lost, $sent if $response->{status} != 200 || upstream_saw($response, $ANY) ne $sent;
        $n++;
    }
}
is(scalar @lost, 0, 'all of them arrive');
is($n, 2 * 16 * 3, 'each spelling, once, twice and beside the name, over HTTP/1.1 and HTTP/2');
is(join(' ', spellings('X-A-B')), 'X-A-B X-A_B X_A-B X_A_B', 'spellings');
--- no_error_log
[error]

=== TEST 4: nor does it come by names that nginx knows
--- listener: optional_no_ca
--- kong eval: +{ plugins => [main::keybound(upstream_headers_claims => [('none') x 3], upstream_headers_names => ['User-Agent', 'Content-Type', 'Referer'])] }
--- run
my $known = 'User.Agent|Content.Type|Referer';
sub sent { return upstream_saw(call(cert => 'client', token => 'bound', headers => [map { "$_: spoofed" } @_]), $known) }
for my $name ('User-Agent', 'Content-Type', 'Referer') {
    is(sent($_), '', $_) for spellings($name);
}
is(sent('User_Agent', 'User-Agent', 'Content_Type'), '', 'several at once');
kong_reload({ plugins => [keybound()] });
is(sent('User_Agent', 'Content_Type'), 'content_type: spoofed|user_agent: spoofed', 'where they are not configured they are left alone');
--- no_error_log
[error]

=== TEST 5: only headers that are configured are taken away: those of the certificate by their names of today
--- listener: optional_no_ca
--- kong
{}
--- run
my @default = values %DETAILS;
my %renamed = map { $_ => "X-My-$_" =~ s/_/-/gr } keys %DETAILS;
my $pattern = join '|', map { s/-/[-_]/gr } @default, values %renamed;
my @all = map { "$_: spoofed" } @default, values %renamed;
my @as_sent = map { lc } @all;
for (['no details' => {}, @as_sent], ['details, no token that is bound' => { inject_client_cert_details => $true }, grep { /x-my-/ } @as_sent],
     ['renamed' => { inject_client_cert_details => $true, %renamed }, grep { !/x-my-/ } @as_sent]) {
    my ($name, $options, @expected) = @$_;
    kong_reload({ plugins => [keybound(%$options, proof_of_possession_mtls => 'optional')] });
    is(upstream_saw(call(cert => 'client', token => 'unbound', headers => [@all]), $pattern), lines(@expected), $name);
    is(upstream_saw(call(cert => 'client', token => 'unbound', headers => [map { tr/-/_/r } @all]), $pattern), lines(map { my ($n, $v) = split /: /; $n =~ tr/-/_/r . ": $v" } @expected), "$name: underscores");
}
kong_reload({ plugins => [keybound(inject_client_cert_details => $true, %renamed)] });
is(upstream_saw(call(cert => 'client', token => 'bound'), $pattern), lines(details('client', %renamed)), 'and a certificate that the token is bound to is told by them');
--- no_error_log
[error]

=== TEST 6: what upstream headers hold
--- kong eval
+{ plugins => [main::keybound(
    upstream_headers_claims => ['sub', 'level', 'admin', 'ratio', 'act', '["realm_access","roles"]', 'none', 'null', 'empty', 'crlf', 'tab', 'name', 'huge'],
    upstream_headers_names => [map { "X-$_" } qw(User Level Admin Ratio Act Roles None Null Empty Crlf Tab Name Huge)])] }
--- tokens eval
+{ rich => { for => 'client', claims => { sub => 'user 1', level => 7, admin => JSON::PP::true, ratio => 0.5, act => { sub => 'x' }, realm_access => { roles => ['a', 'b'] }, null => undef,
    empty => '', crlf => "x\r\nX-Admin: 1", tab => "a\tb", name => "\x{17d}lu\x{165}", huge => 1e300 } } }
--- run
is(upstream_saw(call(cert => 'client', token => 'rich', headers => ['X-None: root', 'X-Null: root', 'X-Empty: root', 'X-Crlf: root', 'X-Tab: root', 'X-Huge: root']),
    'x-(?:user|level|admin|ratio|act|roles|none|null|empty|crlf|tab|name|huge)'),
    lines('x-user: user 1', 'x-level: 7', 'x-admin: true', 'x-ratio: 0.5', 'x-act: {"sub":"x"}', 'x-roles: ["a","b"]', "x-name: \xc5\xbdlu\xc5\xa5"), 'claims as they are, and nothing for the rest');
--- no_error_log
[error]

=== TEST 7: the client gets headers of an allowed request only, in place of those of the upstream
--- upstream
location / { add_header X-Sub upstream; add_header X-Sub again; add_header X-None upstream; return 200; }
--- kong eval
+{ plugins => [main::keybound(@main::DOWN, anonymous => 'guest')],
   main::routes(reported => [main::keybound(@main::DOWN, report_only => $main::true)], consumer => [main::keybound(@main::DOWN, consumer_claim => ['sub'])]), @main::CONSUMERS }
--- run
sub got { my $r = call(@_); return join '|', $r->{status}, map { join ',', header($r, $_) } qw(X-Sub X-None X-Bound) }
is(got(cert => 'client', token => 'bound'), '200|user-1|upstream|' . thumbprint('client'), 'allowed: what the token has; else as the upstream sent it');
is(got(cert => 'thief', token => 'bound'), '401|||', 'refused');
is(got(cert => 'client', token => 'bound', path => '/consumer/'), '403|||', 'allowed, and refused for the consumer');
is(got(cert => 'thief', token => 'bound', path => '/reported/'), '200|upstream,again|upstream|', 'only reported: as the upstream sent it');
is(got(), '200|upstream,again|upstream|', 'anonymous');
is(got(cert => 'client', token => 'bound', h2 => 1), '200|user-1|upstream|' . thumbprint('client'), 'over HTTP/2');
--- no_error_log
[error]

=== TEST 8: the token of an allowed request stays behind where that is configured, and only there
--- kong eval
+{ plugins => [main::keybound(hide_credentials => $main::true, anonymous => 'guest')],
   main::routes(shown => [main::keybound()], guest => [main::keybound(anonymous => 'guest')], (map { $_ => [main::keybound(run_on_preflight => $main::false, hide_credentials => $_ eq 'preflight' ? $main::true : $main::false)] } qw(preflight shown-preflight)), reported => [main::keybound(report_only => $main::true, hide_credentials => $main::true)]), @main::CONSUMERS }
--- run
sub arrived { return upstream_saw(call(@_), 'authorization') =~ s/(Bearer ).*/$1.../r }
is(arrived(cert => 'client', token => 'bound', path => $_->[0]), $_->[1], "allowed, $_->[0]") for ['/', ''], ['/shown/', 'authorization: Bearer ...'];
is(arrived(cert => 'client', token => 'bound', h2 => 1), '', 'over HTTP/2');
is(arrived(cert => 'thief', token => 'bound', path => '/reported/'), 'authorization: Bearer ...', 'only reported: as it came');
is(arrived(token => 'expired'), '', 'of who passes as the anonymous consumer');
is(arrived(token => 'expired', path => '/guest/'), 'authorization: Bearer ...', 'where it is not configured');
is(arrived(headers => ['Authorization: Basic Zm9v']), 'authorization: Basic Zm9v', 'what is no token of ours is left to others');
my @preflight = (method => 'OPTIONS', token => 'expired', headers => ['Origin: https://a.test', 'Access-Control-Request-Method: PUT']);
is(arrived(@preflight, path => '/preflight/'), '', 'of a preflight that is let through');
is(arrived(@preflight, path => '/shown-preflight/'), 'authorization: Bearer ...', 'where it is not configured');
--- no_error_log
[error]

=== TEST 9: the certificate that the token is bound to, as openssl sees it
--- kong eval
+{ main::routes(map { $_ => [main::keybound(inject_client_cert_details => $main::true, certificate_source => $_)] } qw(ssl variable)) }
--- listener: optional_no_ca
--- run
# More than a letter, and what an application could take for the end of a name, or of a header.
self_signed('odd', "/O=Doe, Jo\x{c3}\x{a9}\\+Co;\"x\" <y>/OU= a\\=b#/CN=x\r\nX-Consumer-Username: root");
self_signed('nameless', '/');
write_file("$PKI/chained.crt", read_file("$PKI/client.crt") . read_file("$PKI/ca.crt"));
write_file("$PKI/chained.key", read_file("$PKI/client.key"));
for my $cert (qw(client rsa ed25519 self-signed same-name odd nameless chained)) {
    for my $path (qw(/ssl/ /variable/)) {
        my $response = call(cert => $cert, token => $cert eq 'chained' ? 'bound' : "for:$cert", path => $path);
        is("$response->{status} " . upstream_saw($response, join '|', values %DETAILS, 'X-Consumer-.*'), '200 ' . lines(details($cert)), "$cert, $path");
    }
}
like(lines(details('odd')), qr/subject-dn: CN=x\\0D\\0AX-Consumer-Username: root,OU=\\ a/, 'line ends are told by their numbers');
--- no_error_log
[error]

=== TEST 10: on a resumed session, too
--- kong eval
+{ plugins => [main::keybound(inject_client_cert_details => $main::true), { name => 'probe', config => { access => 'kong.service.request.set_header("X-Reused", ngx.var.ssl_session_reused)' } }] }
--- run
my $pattern = join '|', 'X-Reused', values %DETAILS;
for my $tls ('1.2', '1.3') {
    my $session = "$RUN/session.$tls";
    for (['.', cert => 'client', save => $session], ['r', resume => $session], ['r', cert => 'thief', resume => $session]) {
        my ($reused, %call) = @$_;
        my $response = s_client(token => 'bound', tls => $tls, %call);
        is(upstream_saw($response, $pattern), lines("x-reused: $reused", details('client')), "TLS $tls, $reused");
    }
}
--- no_error_log
[error]

=== TEST 11: nothing is told of a certificate that the token is not bound to: anybody makes himself one
--- listener: optional_no_ca
--- kong eval
+{ plugins => [main::keybound(inject_client_cert_details => $main::true, proof_of_possession_mtls => 'optional')], @main::CONSUMERS,
   main::routes(map { $_->[0] => [main::keybound(inject_client_cert_details => $main::true, %{ $_->[1] })] } ['reported', { report_only => $main::true }], ['anonymous', { anonymous => 'guest' }],
       ['stolen', { anonymous => 'guest', anonymous_on_failed_binding => $main::true }], ['preflight', { run_on_preflight => $main::false }]) }
--- run
self_signed('admin', '/O=admins/CN=admin');
sub told { my $r = call(cert => 'admin', @_); return "$r->{status} " . upstream_saw($r, 'X-Client-Cert.*') }
is(told(token => 'unbound', h2 => $_), '200 ', "optional, h2=$_") for 0, 1;
is(told(token => 'bound', path => "/$_/"), '200 ', "stolen: $_") for qw(reported stolen);
is(told(token => 'unbound', path => "/$_/"), '200 ', "unbound: $_") for qw(reported stolen);
is(told(path => "/$_/"), '200 ', "no token: $_") for qw(reported anonymous stolen);
is(told(path => '/preflight/', method => 'OPTIONS', headers => ['Origin: https://a.test', 'Access-Control-Request-Method: PUT']), '200 ', 'preflight');
is(told(token => 'for:admin', path => "/$_"), '200 ' . lines(details('admin')), "the token that is bound to it: /$_") for '', qw(reported/ anonymous/ stolen/ preflight/);
is((calls_on_one_connection(map { { cert => 'admin', token => $_ } } qw(for:admin unbound)))[1]{body} =~ /X-Client-Cert/i, '', 'nor where another token of the connection is');
--- no_error_log
[error]

=== TEST 12: a header that may come once is refused when it comes twice, wherever it stands
--- listener: optional_no_ca
--- kong eval
+{ plugins => [main::keybound()] }
--- run
my @many = map { sprintf 'X-%03d: %d', $_, $_ } 1 .. 120;
for ([[], ['DPoP: a', 'DPoP: b']], [[], ['DPoP: a', 'dpop: a']], [\@many, ['DPoP: a', 'DPoP: b']], [['DPoP: a', @many], ['DPoP: b']]) {
    my ($before, $twice) = @$_;
    log_mark();
    check(call(@BOUND, token => 'bound', headers => [@$before, @$twice]), '400 invalid_request duplicate_header', "@$twice after " . @$before);
    log_mark();
    check(call(@BOUND, token => 'bound', headers => [grep({ !/DPoP/ } @$before), 'DPoP: a']), '200', 'once');
}
--- no_error_log
[error]

=== TEST 13: a header name that is null is the default one, which nobody else sets
--- kong eval
+{ plugins => [main::keybound(inject_client_cert_details => $main::true, client_cert_subject_dn_header_name => \undef)] }
--- listener: optional_no_ca
--- run
is(upstream_saw(call(cert => $_->[0], token => $_->[1], headers => ['X-Client-Cert-Subject-DN: CN=admin']), 'x-client-cert-subject-dn'), 'x-client-cert-subject-dn: CN=client', 'the certificate') for ['client', 'bound'];
is(kong_reload({ plugins => [keybound(proof_of_possession_mtls => 'optional', inject_client_cert_details => $true, client_cert_subject_dn_header_name => \undef)] }), undef, 'optional');
is(upstream_saw(call(cert => 'thief', token => 'unbound', headers => ['X-Client-Cert-Subject-DN: CN=admin', 'X_Client_Cert_Subject_DN: CN=admin']), 'x.client.cert.subject.dn'), '', 'none that the token is not bound to');
--- no_error_log
[error]
