# DPoP in the nginx module (RFC 9449): proofs end to end, what clients are told, nonces, the URL that a client used, and what goes on to the
# upstream. Each proof that is refused has a twin that passes.
use Module;
use Dpop;
use Test::Nginx::Socket 'no_plan';

my $SECRET = 'the-secret-of-nonces-0123456789-0123456789';
my $ALGS = 'algs="ES256 PS256 EdDSA"';
our $BEARER = { cert => '-', token => 'unbound' };

# told(CALL, EXPECTED, NAME): status, the reasons that were logged, and the challenge but for its `algs`. The response
sub told {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(%$call);
    my @challenges = map { s/ \Q$ALGS\E/ A/r =~ s/, \Q$ALGS\E/, A/r } header($response, 'WWW-Authenticate');
    is(join(' | ', join(' ', $response->{status} // '-', map { /(\w+)$/ } reasons()), @challenges), $expected, $name);
    return $response;
}

# takes(CALL, NAME): it passes; gives(CALL, REASON, NAME): the scheme's 401 for a proof
sub takes { my ($call, $name) = @_; return told($call, '200', $name) }
sub gives {
    my ($call, $reason, $name) = @_;
    my $error = $reason eq 'proof_key_mismatch' ? 'invalid_token' : 'invalid_dpop_proof';
    my $response = told($call, "401 $reason | DPoP error=\"$error\", A", $name);
    is(join(' ', $response->{body}, header($response, 'Cache-Control')), '{"message":"Unauthorized"} no-store', "$name: the answer");
    return $response;
}

# What the upstream got of a request, in headers that are of keybound or of the client.
sub upstream_saw { return plain_saw('authorization|d.?pop.*|x-.*') }

# Tokens that every block has, bound to the key of the name.
my $own = sub { return { claims => { cnf => { jkt => jkt($_[0]) } } } };
add_block_preprocessor(sub {
    my ($block) = @_;
    my $options = qq("public_origin": "https://api.test");
    my $engine = $block->engine // 'kb: { DPOP }';
    $engine =~ s/NONCE/"dpop_use_nonce": true, "dpop_nonce_secret": "$SECRET"/g;
    $engine =~ s/DPOP/"proof_of_possession_dpop": "strict", $options/g;
    $engine =~ s/OPTIONAL/"proof_of_possession_dpop": "optional", $options/g;
    $block->set_value(engine => $engine);
    $block->set_value(http_config => "keybound_zone kb 1m;\n" . ($block->http_config // ''));
    my $tokens = { mine => $own->('phone'), other => $own->('laptop'), %{ $block->tokens // {} } };
    $block->set_value(tokens => $tokens);
    $block->set_value(tls => "location /plain { proxy_pass http://\$PLAIN; }\n" . ($block->tls // ''));
});

run_tests();

__DATA__

=== TEST 1: 9449-7-a: a token that is bound to a key passes with a proof by that key, whatever its kind; the upstream gets it as Bearer, and no proof
--- tokens eval
+{ map { $_ => { claims => { cnf => { jkt => Dpop::jkt("$_-key") } } } } qw(es256 ps256 eddsa) }
--- run
peer_script({ '*' => { body => 'passed' } }, 'plain');
for my $h2 (0, 1) {
    for my $alg (qw(es256 ps256 eddsa)) {
        # The second time the token is remembered.
        for (1, 2) {
            takes({ sent("$alg-key", $alg, path => '/plain', h2 => $h2, headers => ['X-Other: stays']) }, "$alg, h2 $h2");
            is(upstream_saw(), 'authorization: Bearer ' . named_token($alg) . '|x-other: stays', 'the upstream');
        }
    }
}
takes({ sent('phone', 'mine') }, 'mine');
gives({ sent('laptop', 'mine') }, 'proof_key_mismatch', 'by another key');
takes({ sent('laptop', 'other') }, 'its own token');
--- no_error_log
[error]

=== TEST 2: rfc9449-4.3-1 to rfc9449-4.3-12b: each of the twelve checks alone refuses
--- run
my %flip = (signature => sub { substr($_, 5, 1) ^= "\1" });
for my $h2 (0, 1) {
    for (
        ['4.3-2: four parts', 'proof_malformed', text => sub { "$_[0].x" }],
        ['4.3-2: two parts', 'proof_malformed', text => sub { $_[0] =~ s/\.[^.]*\z//r }],
        ['4.3-2: no base64url', 'proof_malformed', text => sub { $_[0] =~ s/\./=./r }],
        ['4.3-2: empty', 'proof_malformed', text => sub { '' }],
        (map { ["4.3-3: no $_", 'proof_malformed', proof => { without => [$_] }] } qw(jti htm htu iat ath)),
        ['4.3-3: iat is text', 'proof_malformed', proof => { claims => { iat => \'"1"' } }],
        ['4.3-4: typ', 'proof_type_refused', proof => { typ => 'at+jwt' }],
        ['4.3-4: no typ', 'proof_type_refused', proof => { without => ['typ'] }],
        ['4.3-5: none', 'proof_algorithm_refused', proof => { alg => 'none' }],
        ['4.3-5: HS256', 'proof_algorithm_refused', proof => { alg => 'HS256' }],
        ['4.3-5: RS256', 'proof_algorithm_refused', proof => { alg => 'RS256' }],
        ['4.3-6: a bit', 'proof_signature_invalid', proof => \%flip],
        ['4.3-6: another key', 'proof_signature_invalid', proof => { signed_by => 'laptop' }],
        ['4.3-7: d', 'proof_key_refused', proof => { jwk => { d => 'AA' } }],
        ['4.3-7: no jwk', 'proof_key_refused', proof => { without => ['jwk'] }],
        ['4.3-8: POST', 'proof_method_mismatch', proof => { method => 'POST' }],
        ['4.3-8: get', 'proof_method_mismatch', proof => { method => 'get' }],
        ['4.3-9: another path', 'proof_uri_mismatch', proof => { uri => 'https://api.test/other' }],
        ['4.3-9: another host', 'proof_uri_mismatch', proof => { uri => 'https://other.test/' }],
        ['4.3-9: http', 'proof_uri_mismatch', proof => { uri => 'http://api.test/' }],
        ['4.3-11: old', 'proof_expired', proof => { iat => -70 }],
        ['4.3-11: ahead', 'proof_issued_in_future', proof => { iat => 30 }],
        ['4.3-12a: of another token', 'proof_token_mismatch', proof => { token => 'other' }],
        ['4.3-12b: of another key', 'proof_key_mismatch', key => 'laptop'],
    ) {
        my ($name, $reason, %how) = @$_;
        my %sent = sent($how{key} // 'phone', 'mine', h2 => $h2, proof => $how{proof} // {});
        s/^DPoP: (.*)/'DPoP: ' . $how{text}->($1)/e for $how{text} ? @{ $sent{headers} } : ();
        s/^DPoP: \z/DPoP;/ for @{ $sent{headers} };
        gives(\%sent, $reason, "rfc9449-$name, h2 $h2");
        takes({ sent('phone', 'mine', h2 => $h2) }, 'its twin');
    }
    gives({ sent(undef, 'mine', h2 => $h2) }, 'proof_missing', "9449-7-a: no proof, h2 $h2");
    takes({ sent('phone', 'mine', h2 => $h2, proof => { iat => -50 }) }, 'not so old');
    takes({ sent('phone', 'mine', h2 => $h2, proof => { iat => 3 }) }, 'a little ahead');
    takes({ sent('phone', 'mine', h2 => $h2, proof => { typ => 'application/DPoP+JWT' }) }, '9449-4.3-4: a media type');
}
--- timeout: 60
--- no_error_log
[error]

=== TEST 3: rfc9449-4.3-1: two DPoP headers are refused, over HTTP/1.1 and HTTP/2, the same one twice, and as a list; among many headers, too
--- run
for my $h2 (0, 1) {
    my $two = sub { my %one = sent('phone', 'mine', h2 => $h2); my %more = sent('phone', 'mine'); ($one{headers}[0], $more{headers}[0], %one) };
    my ($one, $other, %sent) = $two->();
    gives({ %sent, headers => [$one, $other] }, 'proof_repeated', "two, h2 $h2");
    gives({ %sent, headers => [$one, $one] }, 'proof_repeated', "one twice, h2 $h2");
    gives({ %sent, headers => [$one, 'dpop: x'] }, 'proof_repeated', "in another case, h2 $h2");
    gives({ %sent, headers => ['DPoP: x', $one] }, 'proof_repeated', "the good one last, h2 $h2");
    gives({ %sent, headers => ["$one, " . $other =~ s/^DPoP: //r] }, 'proof_repeated', "a list, h2 $h2");
    gives({ %sent, headers => [$one, (map { "X-N$_: $_" } 1 .. 130), $other] }, 'proof_repeated', "a hundred headers later, h2 $h2");
    # None of them was used up.
    takes({ %sent, headers => [(map { "X-N$_: $_" } 1 .. 130), $one, 'D_PoP: x', 'D-PoP: x'] }, "its twin, h2 $h2");
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 4: rfc9449-7.1-b, rfc9449-7.1-d: the scheme in any case, one token; a token in Proxy-Authorization is none
--- run
my $with = sub { my %sent = sent('phone', 'mine'); return { %sent, authorization => $_[0] . named_token('mine') . ($_[1] // '') } };
takes($with->($_), "'$_'") for 'DPoP ', 'dpop ', 'DPOP ', 'dPoP   ';
my $error = 'DPoP error="invalid_request", A';
told($with->(@$_), "400 malformed_authorization | $error", "'@$_'") for ["DPoP\t"], ['DPoP ', ' x'], ['DPoP ', ', x'], ['DPoP '. 'x '];
told({ headers => ['Authorization: DPoP'] }, "400 malformed_authorization | $error", 'no token');
my %sent = sent('phone', 'mine');
told({ headers => [@{ $sent{headers} }, "Proxy-Authorization: $sent{authorization}"] }, '401 no_token | DPoP A', 'Proxy-Authorization');
takes(\%sent, 'its twin');
told({ %{ $with->('DPoP ') }, path => '/?access_token=x' }, '400 several_tokens | DPoP error="invalid_request", A', 'another token in the query');
--- no_error_log
[error]

=== TEST 5: rfc9449-7.1-c, rfc9449-7.2-c: challenges, all schemes in one header; the error is in that of the scheme that was used
--- engine
kb: { DPOP, "scopes_required": ["read"] }
optional: { OPTIONAL, "scopes_required": ["read"], "realm": "api" }
either: { DPOP, "proof_of_possession_mtls": "strict", "proof_of_possession_either": true }
both: { DPOP, "proof_of_possession_mtls": "strict" }
quiet: { OPTIONAL, "expose_error_code": false }
--- tokens eval
+{ poor => { claims => { scope => 'other', cnf => { jkt => Dpop::jkt('phone') } } }, poor_bearer => { claims => { scope => 'other' } } }
--- run
for my $h2 (0, 1) {
    for (
        # Without credentials, with an unbound bearer token, with a bound one as bearer, with a proof of another key, with too small a scope
        ['/', 'DPoP A', 'DPoP error="invalid_token", A', 'DPoP error="invalid_token", A', 'DPoP error="invalid_token", A'],
        ['/optional', 'Bearer realm="api", DPoP realm="api", A', '', 'Bearer realm="api", error="invalid_token", DPoP realm="api", A',
            'DPoP realm="api", error="invalid_token", A, Bearer realm="api"'],
        ['/either', 'Bearer, DPoP A', 'Bearer error="invalid_token", DPoP A', 'Bearer error="invalid_token", DPoP A', 'DPoP error="invalid_token", A, Bearer'],
        ['/both', 'DPoP A', 'DPoP error="invalid_token", A', 'DPoP error="invalid_token", A', undef],
        ['/quiet', 'Bearer, DPoP A', '', 'Bearer, DPoP A', 'DPoP A, Bearer'],
    ) {
        my ($path, @expected) = @$_;
        my @calls = ({}, { token => 'unbound' }, { token => 'mine' }, { sent('laptop', 'mine', path => $path) });
        for my $i (0 .. 3) {
            next unless defined $expected[$i];
            my $response = call(path => $path, %{ $calls[$i] }, h2 => $h2);
            my @challenges = map { s/ algs="ES256 PS256 EdDSA"/ A/r } header($response, 'WWW-Authenticate');
            is(join(' | ', $response->{status}, @challenges), $expected[$i] eq '' ? '200' : "401 | $expected[$i]", "$path, $i, h2 $h2");
        }
    }
    told({ sent('phone', 'poor', h2 => $h2) }, '403 insufficient_scope | DPoP error="insufficient_scope", scope="read", A', 'scope');
    my $response = call(sent('phone', 'poor', path => '/optional', h2 => $h2));
    is(scalar header($response, 'WWW-Authenticate'), 'DPoP realm="api", error="insufficient_scope", scope="read", algs="ES256 PS256 EdDSA", Bearer realm="api"', 'of two schemes');
    $response = call(token => 'poor_bearer', path => '/optional', h2 => $h2);
    is(scalar header($response, 'WWW-Authenticate'), 'Bearer realm="api", error="insufficient_scope", scope="read", DPoP realm="api", algs="ES256 PS256 EdDSA"', 'of a bearer token');
    takes({ sent('phone', 'mine', path => $_, h2 => $h2) }, "its twin $_") for '/', '/optional', '/either', '/quiet';
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 6: rfc9449-7.2-a, rfc9449-7.2-b: no downgrade: a bound token as Bearer, an unbound one as DPoP; a token bound twice needs certificate and proof
--- engine
kb: { DPOP }
optional: { OPTIONAL }
both: { DPOP, "proof_of_possession_mtls": "strict" }
either: { DPOP, "proof_of_possession_mtls": "strict", "proof_of_possession_either": true }
--- tokens eval
+{ twice => { for => 'client', claims => { cnf => { 'x5t#S256' => Keybound::thumbprint('client'), jkt => Dpop::jkt('phone') } } } }
--- run
my $reason = sub { log_mark(); my $r = call(@_); return join ' ', $r->{status}, map { /(\w+)$/ } reasons() };
for my $path ('/', '/optional', '/both', '/either') {
    my %bearer = sent('phone', 'mine', path => $path, scheme => 'Bearer');
    is($reason->(%bearer), '401 dpop_scheme_required', "$path: a bound token as Bearer, even with its proof") unless $path eq '/both';
    is($reason->(sent('phone', 'unbound', path => $path)), '401 token_not_dpop_bound', "$path: an unbound one as DPoP");
    for (['client', 'phone', '200'], ['-', 'phone', '401 certificate_missing'], ['thief', 'phone', '401 certificate_mismatch'], ['client', 'laptop', '401 proof_key_mismatch']) {
        my ($cert, $key, $expected) = @$_;
        # Where certificates are not asked for, what is bound to one is refused.
        $expected = '401 confirmation_unsupported' if $path =~ m{^/(?:optional)?$};
        is($reason->(sent($key, 'twice', path => $path, cert => $cert)), $expected, "$path: bound twice, certificate $cert, key $key");
    }
    my %twice = sent('phone', 'twice', path => $path, cert => 'client', scheme => 'Bearer');
    like($reason->(%twice), qr/^401 (?:dpop_scheme_required|confirmation_unsupported)$/, "$path: bound twice, as Bearer");
}
is($reason->(token => 'unbound', path => '/optional'), '200', 'an unbound one as Bearer, where that is optional');
is($reason->(token => 'unbound', path => '/'), '401 token_not_dpop_bound', 'and where it is not');
is($reason->(token => 'unbound', path => '/optional', headers => ['DPoP: junk']), '200', 'a stray proof beside it is not looked at');
--- no_error_log
[error]

=== TEST 7: rfc9449-4.3-8: the method is the client's own: any, and that of HEAD
--- run
for my $h2 (0, 1) {
    for my $method (qw(GET HEAD POST PUT PATCH DELETE OPTIONS PROPFIND MKCOL)) {
        takes({ sent('phone', 'mine', method => $method, h2 => $h2, $method eq 'POST' ? (data => 'a=b') : ()) }, $method);
        log_mark();
        call(sent('phone', 'mine', method => $method, h2 => $h2, proof => { method => lc $method }));
        is(join(' ', reasons()), '401 proof_method_mismatch', lc $method);
    }
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 8: rfc9449-4.3-9, rfc9449-4.3-9n: htu is what the client asked for, whatever nginx makes of it, in normal form, without query
--- tls
location /a { rewrite ^ /internal break; $PROXY; }
location /last { rewrite ^ /internal last; }
location /internal { $PROXY; }
merge_slashes on;
--- run
for my $h2 (0, 1) {
    for (
        ['/a', 'https://api.test/a', 1], ['/a', 'https://api.test/internal', 0], ['/last', 'https://api.test/last', 1], ['/last', 'https://api.test/internal', 0],
        ['/a', 'https://API.Test/a', 1], ['/a', 'HTTPS://api.test:443/a', 1], ['/a', 'https://api.test:8443/a', 0], ['/a', 'https://api.test/A', 0],
        ['/a?x=1', 'https://api.test/a', 1], ['/a?x=1', 'https://api.test/a?x=2#f', 1], ['/a/', 'https://api.test/a', 0], ['/', 'https://api.test', 1],
        ['/%7Euser', 'https://api.test/~user', 1], ['/~user', 'https://api.test/%7euser', 1], ['/%2fetc', 'https://api.test/%2Fetc', 1], ['/%2fetc', 'https://api.test//etc', 0],
        ['/a/./b/../c', 'https://api.test/a/c', 1], ['//a', 'https://api.test/a', 0], ['//a', 'https://api.test//a', 1], ['/a;v=1', 'https://api.test/a;v=1', 1], ['/a;v=1', 'https://api.test/a', 0],
        ['/a', 'https://u:p@api.test/a', 0], ['/a', 'https://api.test./a', 0], ['/a', '/a', 0], ['/a', 'https://api.test/a b', 0], ['/a', 'https://api.test/' . 'a' x 3000, 0],
    ) {
        my ($path, $uri, $is_same) = @$_;
        my %sent = sent('phone', 'mine', path => $path, h2 => $h2, proof => { uri => $uri });
        $is_same ? takes(\%sent, "$path is $uri") : length $uri > 2000 ? like((log_mark(), call(%sent), join ' ', reasons())[-1], qr/proof_\w+/, 'a long one')
            : gives(\%sent, 'proof_uri_mismatch', "$path is not $uri");
    }
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 9: rfc9449-4.3-9: the origin is the operator's: what Host says chooses among several, and is no new one; an absolute target is not another
--- engine
kb: { DPOP }
many: { "proof_of_possession_dpop": "strict", "public_origin": ["https://api.test", "https://two.test:8443", "https://two.test.example:8443"] }
prefix: { DPOP, "public_path_prefix": "/base" }
--- tls
server_name api.test two.test evil.test;
--- run
# raw(TARGET, HOST, URI): the reasons for one request that is written as it is
sub raw {
    my ($target, $host, $uri) = @_;
    my %sent = sent('phone', 'mine', proof => { uri => $uri });
    log_mark();
    my $request = "GET $target HTTP/1.1\r\nHost: $host\r\nAuthorization: $sent{authorization}\r\n$sent{headers}[0]\r\nConnection: close\r\n\r\n";
    my (undef, $out) = command($request, qw(openssl s_client -quiet -connect), "127.0.0.1:$Keybound::TLS_PORT", '-servername', 'api.test', '-CAfile', "$PKI/ca.crt");
    return join ' ', $out =~ m{^HTTP/1\.1 (\d+)}, map { /(\w+)$/ } reasons();
}
is(raw('/', 'evil.test', 'https://api.test/'), '200', 'of one origin, Host is not looked at');
is(raw('/', 'evil.test', 'https://evil.test/'), '401 proof_uri_mismatch', 'and makes no other');
is(raw('/many', 'api.test', 'https://api.test/many'), '200', 'the first of two');
is(raw('/many', 'two.test:8443', 'https://two.test:8443/many'), '200', 'the second');
is(raw('/many', 'two.test', 'https://two.test:8443/many'), '401 proof_uri_mismatch', 'without its port');
is(raw('/many', 'two.test:8443', 'https://api.test/many'), '401 proof_uri_mismatch', 'one for the other');
is(raw('/many', 'evil.test', 'https://evil.test/many'), '401 proof_uri_mismatch', 'a third');
is(raw('https://api.test/many', 'api.test', 'https://api.test/many'), '200', 'an absolute target');
is(raw('https://two.test:8443/many', 'api.test', 'https://api.test/many'), '401 proof_uri_mismatch', 'that is not of its Host');
is(raw('https://two.test:8443/many', 'api.test', 'https://two.test:8443/many'), '401 proof_uri_mismatch', 'neither');
is(raw('https://two.test:8443/many', 'two.test.example:8443', 'https://two.test.example:8443/many'), '401 proof_uri_mismatch', 'nor one that only begins so');
is(raw('/many', 'two.test.example:8443', 'https://two.test.example:8443/many'), '200', 'its twin');
is(raw('https://evil.test/', 'api.test', 'https://api.test/'), '200', 'of one origin, it is not looked at either');
is(raw('https://evil.test/', 'api.test', 'https://evil.test/'), '401 proof_uri_mismatch', 'and makes no other');
is(raw('/prefix', 'api.test', 'https://api.test/base/prefix'), '200', 'with the prefix');
is(raw('/prefix', 'api.test', 'https://api.test/prefix'), '401 proof_uri_mismatch', 'without it');
--- no_error_log
[error]

=== TEST 10: rfc9449-2-a: over plain HTTP no proof is taken, whatever headers say; from a trusted proxy that says https it is. realip changes nothing of who that is
--- http_config
server {
    listen unix:$RUN/plain.sock;
    location / { keybound on; keybound_config $KB/kb.json; $PROXY; }
    location /trusted { keybound on; keybound_config $KB/trusted.json; $PROXY; }
    location /unix { keybound on; keybound_config $KB/unix.json; $PROXY; }
    location /other { keybound on; keybound_config $KB/other.json; $PROXY; }
}
--- config
location / { keybound on; keybound_config $KB/kb.json; $PROXY; }
location /trusted { keybound on; keybound_config $KB/trusted.json; $PROXY; }
location /unix { keybound on; keybound_config $KB/unix.json; $PROXY; }
location /other { keybound on; keybound_config $KB/other.json; $PROXY; }
location /realip { set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP; keybound on; keybound_config $KB/trusted.json; $PROXY; }
location /fooled { set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP; keybound on; keybound_config $KB/other.json; $PROXY; }
--- engine
kb: { DPOP }
trusted: { "proof_of_possession_dpop": "strict", "trusted_ips": ["127.0.0.0/8"] }
unix: { "proof_of_possession_dpop": "strict", "trusted_ips": ["unix:"] }
other: { "proof_of_possession_dpop": "strict", "trusted_ips": ["10.0.0.0/8"] }
--- run
my @socket = ('--unix-socket', "$RUN/plain.sock");
my @port = ('--connect-to', "::127.0.0.1:$Keybound::PORT");
# at(WHERE, PATH, URI, HEADER...): what comes of a request by plain HTTP
sub at {
    my ($where, $path, $uri, @headers) = @_;
    my %sent = sent('phone', 'mine', path => $path, proof => { uri => $uri });
    log_mark();
    my (undef, $out) = command('', qw(curl -q -sS -i --noproxy *), @$where, map({ ('-H', $_) } "Authorization: $sent{authorization}", @{ $sent{headers} }, @headers), "http://inside.test$path");
    return join ' ', $out =~ m{^HTTP/1\.1 (\d+)}, map { /(\w+)$/ } reasons();
}
my @https = ('X-Forwarded-Proto: https', 'X-Forwarded-Host: pub.test');
for my $where (\@socket, \@port) {
    my $is_unix = $where == \@socket;
    my $from = $is_unix ? 'unix' : 'port';
    is(at($where, '/', 'https://api.test/'), '401 proof_over_plain_http', "$from: plain");
    is(at($where, '/', 'https://api.test/', @https), '401 proof_over_plain_http', "$from: nobody is trusted");
    is(at($where, '/unix', 'https://pub.test/unix', @https), $is_unix ? '200' : '401 proof_over_plain_http', "$from: the socket is trusted");
    is(at($where, '/trusted', 'https://pub.test/trusted', @https), $is_unix ? '401 proof_over_plain_http' : '200', "$from: the address is trusted");
    is(at($where, '/other', 'https://pub.test/other', @https), '401 proof_over_plain_http', "$from: another one is");
}
is(at(\@port, '/trusted', 'https://pub.test/trusted', 'X-Forwarded-Host: pub.test'), '401 proof_over_plain_http', 'it says nothing of TLS');
is(at(\@port, '/trusted', 'https://pub.test/trusted', 'X-Forwarded-Proto: http', 'X-Forwarded-Host: pub.test'), '401 proof_over_plain_http', 'it says http');
is(at(\@port, '/trusted', 'https://inside.test/trusted', 'X-Forwarded-Proto: https'), '401 proof_uri_mismatch', 'it does not say for which host, and no client can');
is(at(\@port, '/trusted', 'https://pub.test:8443/base/trusted', @https, 'X-Forwarded-Port: 8443', 'X-Forwarded-Prefix: /base'), '200', 'with port and prefix');
is(at(\@port, '/trusted', 'https://pub.test/trusted', @https, 'X-Forwarded-Host: evil.test'), '401 proof_uri_mismatch', 'two hosts');
is(at(\@port, '/realip', 'https://pub.test/realip', @https, 'X-Real-IP: 192.0.2.1'), '200', 'the proxy is trusted, whoever it says the client is');
is(at(\@port, '/fooled', 'https://pub.test/fooled', @https, 'X-Real-IP: 10.0.0.1'), '401 proof_over_plain_http', 'who seems to be a trusted proxy is none');
# Over TLS, headers of who is not trusted change nothing.
takes({ sent('phone', 'mine', headers => ['X-Forwarded-Host: evil.test', 'X-Forwarded-Proto: http', 'X-Forwarded-Port: 1', 'X-Forwarded-Prefix: /x']) }, 'over TLS');
gives({ sent('phone', 'mine', headers => ['X-Forwarded-Host: evil.test'], proof => { uri => 'https://evil.test/' }) }, 'proof_uri_mismatch', 'its twin');
--- no_error_log
[error]

=== TEST 11: rfc9449-9-a, rfc9449-8.2-a, rfc9449-11.3-a: a client without a nonce is given one with a 401 that nobody may keep, and passes with it
--- engine
kb: { DPOP, NONCE }
optional: { OPTIONAL, NONCE, "expose_error_code": false }
--- tls
add_header X-Page here always;
--- run
for my $h2 (0, 1) {
    for (['/', 'DPoP error="use_dpop_nonce", A'], ['/optional', 'DPoP error="use_dpop_nonce", A, Bearer']) {
        my ($path, $challenge) = @$_;
        my $response = told({ sent('phone', 'mine', path => $path, h2 => $h2) }, "401 proof_nonce_missing | $challenge", "$path: none");
        my @nonces = header($response, 'DPoP-Nonce');
        is(scalar @nonces, 1, 'one nonce');
        like($nonces[0], qr/^[\x21\x23-\x5b\x5d-\x7e]{20,80}$/, '9449-8.1-a: of the right characters');
        is(join('|', header($response, 'Cache-Control')), 'no-store', 'and it is not kept');
        $response = told({ sent('phone', 'mine', path => $path, h2 => $h2, proof => { nonce => $nonces[0] }) }, '200', "$path: with it");
        is(join('|', header($response, 'DPoP-Nonce')), '', 'it is good for longer');
        # The time of the client's clock does not matter then.
        told({ sent('phone', 'mine', path => $path, h2 => $h2, proof => { nonce => $nonces[0], iat => -100_000 }) }, '200', "$path: by a slow clock");
        my $forged = $nonces[0] =~ s/(.)$/$1 eq 'A' ? 'E' : 'A'/er;
        for my $bad ($forged, 'x', substr($nonces[0], 1), 'A' x 54) {
            $response = told({ sent('phone', 'mine', path => $path, h2 => $h2, proof => { nonce => $bad }) }, "401 proof_nonce_invalid | $challenge", "$path: $bad");
            is(scalar(() = header($response, 'DPoP-Nonce')), 1, 'and gets a good one');
        }
        # A thief gets none: only a proof that lacks nothing else is told about nonces.
        is(scalar(() = header(call(path => $path, token => 'mine', h2 => $h2), 'DPoP-Nonce')), 0, 'without a proof there is none');
    }
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 12: rfc9449-8-b, rfc9449-8.2-a: an ageing nonce is replaced with the answer, which nobody may keep then, and the upstream's own never gets through
--- engine
kb: { DPOP, NONCE, "dpop_proof_lifetime": 8 }
--- tls
location /plain/cached { expires 1h; proxy_pass http://$PLAIN; }
--- run
peer_script({ '*' => { body => 'passed', headers => { 'DPoP-Nonce' => 'of-the-upstream', 'Cache-Control' => 'public, max-age=60' } } }, 'plain');
my $first = header(call(sent('phone', 'mine')), 'DPoP-Nonce');
my $with = sub { return call(sent('phone', 'mine', path => '/plain', h2 => $_[1] // 0, proof => { nonce => $_[0] })) };
my $response = $with->($first);
is(join(' ', $response->{status}, header($response, 'DPoP-Nonce'), header($response, 'Cache-Control')), '200 public, max-age=60', 'a young one: the response is the upstream\'s, without its nonce');
pause(4.5);
my @fresh;
for my $h2 (0, 1) {
    $response = $with->($first, $h2);
    is($response->{status}, 200, 'an old one passes');
    my @nonces = header($response, 'DPoP-Nonce');
    is(scalar @nonces, 1, 'and there is one nonce');
    isnt($nonces[0], $_, 'another one') for $first, 'of-the-upstream';
    is(join('|', header($response, 'Cache-Control')), 'no-store', 'which nobody may keep');
    push @fresh, @nonces;
}
$response = call(sent('phone', 'mine', path => '/plain/cached', proof => { nonce => $first }));
like(join('|', header($response, 'Cache-Control')), qr/no-store/, 'with expires, too');
pause(4.5);
told({ sent('phone', 'mine', proof => { nonce => $first }) }, '401 proof_nonce_invalid | DPoP error="use_dpop_nonce", A', 'now it has ended');
takes({ sent('phone', 'mine', proof => { nonce => $fresh[0] }) }, 'the fresh one has not');
--- timeout: 40
--- no_error_log
[error]

=== TEST 13: rfc9449-8-a: nonces of another secret, until it is named as a previous one; of another engine, and after a reload, with the same one
--- engine
kb: { DPOP, NONCE }
same: { DPOP, NONCE }
next: { DPOP, "dpop_use_nonce": true, "dpop_nonce_secret": "another-secret-of-nonces-0123456789-01234", "dpop_nonce_previous_secrets": ["the-secret-of-nonces-0123456789-0123456789"] }
other: { DPOP, "dpop_use_nonce": true, "dpop_nonce_secret": "another-secret-of-nonces-0123456789-01234" }
--- run
my $nonce = header(call(sent('phone', 'mine')), 'DPoP-Nonce');
takes({ sent('phone', 'mine', path => $_, proof => { nonce => $nonce }) }, $_) for '/', '/same', '/next';
told({ sent('phone', 'mine', path => '/other', proof => { nonce => $nonce }) }, '401 proof_nonce_invalid | DPoP error="use_dpop_nonce", A', 'another secret');
my $next = header(call(sent('phone', 'mine', path => '/next')), 'DPoP-Nonce');
takes({ sent('phone', 'mine', path => $_, proof => { nonce => $next }) }, $_) for '/next', '/other';
told({ sent('phone', 'mine', proof => { nonce => $next }) }, '401 proof_nonce_invalid | DPoP error="use_dpop_nonce", A', 'not known yet');
--- no_error_log
[error]

=== TEST 14: what the upstream gets: the token as Bearer, or both as they came, or nothing; of what was let through alone by report_only, what the client sent
--- engine
kb: { DPOP, "upstream_headers_claims": ["sub"], "upstream_headers_names": ["X-User"] }
whole: { DPOP, "upstream_dpop_as_bearer": false }
hidden: { DPOP, "hide_credentials": true }
nothing: { DPOP, "hide_credentials": true, "upstream_dpop_as_bearer": false }
report: { DPOP, "report_only": true }
optional: { OPTIONAL }
--- tls
location /whole { keybound_config $KB/whole.json; proxy_pass http://$PLAIN; }
location /hidden { keybound_config $KB/hidden.json; proxy_pass http://$PLAIN; }
location /nothing { keybound_config $KB/nothing.json; proxy_pass http://$PLAIN; }
location /report { keybound_config $KB/report.json; proxy_pass http://$PLAIN; }
location /optional { keybound_config $KB/optional.json; proxy_pass http://$PLAIN; }
location /variable {
    # They are asked for before they change.
    set $before "$http_dpop $http_authorization";
    proxy_set_header X-Proof $http_dpop;
    proxy_set_header X-Token $http_authorization;
    proxy_pass http://$PLAIN;
}
--- run
peer_script({ '*' => { body => 'passed' } }, 'plain');
my ($token, $unbound) = map { named_token($_) } 'mine', 'unbound';
for my $h2 (0, 1) {
    for my $header ('DPoP', 'dpop', 'DPOP') {
        my %sent = sent('phone', 'mine', path => '/plain', h2 => $h2);
        s/^DPoP/$header/ for @{ $sent{headers} };
        is(call(%sent, headers => [@{ $sent{headers} }, 'X-User: root'])->{status}, 200, "$header: passes");
        is(upstream_saw(), "authorization: Bearer $token|x-user: user-1", "$header: not there");
    }
    my $see = sub { my %sent = sent('phone', 'mine', path => $_[0], h2 => $h2); is(call(%sent)->{status}, 200, "$_[0] passes"); return (upstream_saw(), $sent{headers}[0] =~ /: (.*)/) };
    my ($saw, $proof) = $see->('/whole');
    is($saw, "authorization: DPoP $token|dpop: $proof", 'both as they came');
    is(($see->('/hidden'))[0], '', 'hidden');
    ($saw, $proof) = $see->('/nothing');
    is($saw, '', 'hidden, and not as Bearer either');
    is(($see->('/variable'))[0], "authorization: Bearer $token|x-token: Bearer $token|x-user: user-1", 'variables');
    # What would be refused passes with what its client sent.
    my %sent = sent('laptop', 'mine', path => '/report', h2 => $h2);
    log_mark();
    is(call(%sent)->{status}, 200, 'reported');
    like(log_since(), qr/reported, reason=proof_key_mismatch,/, 'the log says so');
    is(upstream_saw(), join('|', "authorization: DPoP $token", 'dpop: ' . $sent{headers}[0] =~ s/^DPoP: //r), 'as it came');
    is(($see->('/report'))[0], "authorization: Bearer $token", 'allowed where it only reports');
    call(token => 'unbound', path => '/optional', headers => ['DPoP: stray'], h2 => $h2);
    is(upstream_saw(), "authorization: Bearer $unbound", 'a proof that nobody looked at does not go on');
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 15: rfc9449-6.2-b, rfc9449-6-a: opaque tokens: the authorization server is told nothing of the proof, and its cnf.jkt is checked here
--- engine
kb: peer { DPOP, "token_cache_entries": 0 }
--- run
sub of_peer { return { active => JSON::PP::true, aud => 'https://api.test', exp => time + 600 | 0, @_ } }
sub opaque_text { return { text => 'opaque-' . ++$main::n . '-' . int rand 1e9 } }
my @cnf = (cnf => { jkt => jkt('phone') });
for (
    [{ of => { of_peer(@cnf)->%* } }, 'phone', '200'],
    [{ of => { of_peer(@cnf, token_type => 'DPoP')->%* } }, 'phone', '200'],
    [{ of => { of_peer(@cnf)->%* } }, 'laptop', '401 proof_key_mismatch'],
    [{ of => { of_peer(@cnf, token_type => 'Bearer')->%* } }, 'phone', undef],
    [{ of => { of_peer()->%* } }, 'phone', '401 token_not_dpop_bound'],
) {
    my ($said, $key, $expected) = @$_;
    peer_script({ '/introspect' => { json => $said->{of} } });
    peer_control('/log/clear');
    define(opaque => opaque_text());
    for my $h2 (0, 1) {
        log_mark();
        my $response = call(sent($key, 'opaque', h2 => $h2));
        my $got = join ' ', $response->{status}, map { /(\w+)$/ } reasons();
        defined $expected ? is($got, $expected, "$key: " . json($said->{of}{cnf} // {})) : like($got, qr/^401 \w+$/, "Bearer, and bound to a key: $got");
    }
    my @requests = map { @{ $_->{requests} } } @{ peer_log()->{log} };
    ok(scalar @requests, 'the server was asked');
    is(join(' ', grep { /d.?pop/i } map { keys %{ $_->{headers} } } @requests), '', 'without the proof');
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 16: rfc9449-11.1: TLS 1.3 early data, which can come twice, is refused with 425, and its proof is not used up
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
ssl_early_data on;
--- run
my $session = "$RUN/early-session";
my $one = sub { my %sent = sent('phone', 'mine', @_); return (tls => '1.3', headers => ["Authorization: $sent{authorization}", @{ $sent{headers} }]) };
# Each session can send early data once. Where nginx is slow, the handshake is complete when it looks at the request: then it cannot come
# twice, and passes.
my (%early, $got);
for (1 .. 10) {
    is(s_client($one->(), save => $session)->{status}, 200, 'a full handshake');
    %early = $one->();
    log_mark();
    $got = join ' ', s_client(%early, resume => $session, early => 1)->{status}, reasons();
    last if $got ne '200';
}
SKIP: {
    skip 'valgrind is too slow for it', 2 if $ENV{TEST_NGINX_USE_VALGRIND} && $got eq '200';
    is($got, '425 425 early_data', 'early');
    is(s_client(%early, resume => $session)->{status}, 200, 'the same, not early');
}
--- no_error_log
[error]

=== TEST 17: directives: keybound_dpop is the option of its name, in place of what the file says; and what is missing is told with the directive
--- engine
kb: { "public_origin": "https://api.test", "proof_of_possession_dpop": "optional" }
--- tls
location /strict { keybound_dpop strict; $PROXY; }
--- run
takes({ token => 'unbound' }, 'optional, as the file says');
told({ token => 'unbound', path => '/strict' }, '401 token_not_dpop_bound | DPoP error="invalid_token", A', 'strict');
takes({ sent('phone', 'mine', path => '/strict') }, 'its twin');
engine_file('x', '', { public_origin => 'https://api.test', proof_of_possession_dpop => 'strict' });
engine_file('sealed', '', { public_origin => 'https://api.test', proof_of_possession_dpop => 'strict', store_secret => '0123456789' x 4 });
engine_file('bare', '', { public_origin => 'https://api.test' });
engine_file('plain', '', {});
my $zone = 'keybound_zone z 1m;';
loads('with a zone', $zone, 'keybound on; keybound_config $KB/x.json;');
refuses_to_load('without one', qr/x\.json" in .*: store_secret: required by proof_of_possession_dpop.*keybound_zone/, '', "keybound on;\nX keybound_config \$KB/x.json;");
refuses_to_load('with a secret alone', qr/sealed\.json" in .*: store_secret: needs a keybound_zone/, '', "keybound on;\nX keybound_config \$KB/sealed.json;");
loads('dpop by directive', $zone, 'keybound on; keybound_config $KB/bare.json; keybound_dpop optional;');
refuses_to_load('not at all', qr/bare\.json" in .*: public_origin: has no effect without proof_of_possession_dpop/, $zone, "keybound on;\nX keybound_config \$KB/bare.json;");
refuses_to_load('no origin', qr/plain\.json" in .*: public_origin: required/, $zone, "keybound on;\nX keybound_config \$KB/plain.json;\nkeybound_dpop strict;");
refuses_to_load('another word', qr/"keybound_dpop" directive must be strict, optional or off/, $zone, "X keybound_dpop yes;");
refuses_to_load('twice', qr/"keybound_dpop" directive is duplicate/, $zone, "keybound_dpop off;\nX keybound_dpop off;");
--- no_error_log
[error]
