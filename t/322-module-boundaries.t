# What a fetch of the nginx module and the request of the client that it is made for must not have in common, and answers of the
# authorization server that no fetch may fall over.
use Module;
use Test::Nginx::Socket 'no_plan';

sub forget { as_control('/log/clear') }
my $unique = 0;
sub fresh { return { text => 'opaque-' . ++$unique . '-' . int rand 1e9 } }
sub active { return (active => JSON::PP::true, aud => 'https://api.test', exp => time + 600 | 0, cnf => { 'x5t#S256' => thumbprint('client') }, @_) }
# all_of(PEER): the requests that it got, as text
sub all_of { return json([ map { @{ $_->{requests} } } @{ peer_log($_[0])->{log} } ]) }

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(tls => $block->tls =~ s/THUMBPRINT/thumbprint('client')/er) if $block->tls;
});

run_tests();

__DATA__

=== TEST 1: variables of headers mean those of the client to the upstream, and those of keybound to the authorization server
--- engine
kb: peer
--- tls
set $mine $http_authorization;
location / { proxy_set_header Authorization $http_authorization; proxy_set_header X-Host $host; proxy_pass http://$PLAIN; }
--- run
peer_script({ '/introspect' => { json => { active() } } });
peer_script({ '*' => { body => 'passed' } }, 'plain');
for my $h2 (0, 1) {
    peer_control('/log/clear', {}, $_) for qw(peer plain);
    define(first => fresh(), second => fresh());
    for my $name (qw(first second)) {
        passes({ cert => 'client', token => $name, h2 => $h2 }, $name);
        is(plain_saw('authorization|x-host'), 'authorization: Bearer ' . named_token($name) . '|x-host: api.test', "$name: the upstream has the client's");
    }
    unlike(all_of('plain'), qr/Basic/, 'and never the secret');
    is(scalar(() = all_of('peer') =~ /"authorization":"Basic /g), 2, 'which the authorization server has');
    unlike(all_of('peer'), qr/"Bearer|api\.test"/, 'and nothing of the client');
}
--- no_error_log
[error]
[alert]

=== TEST 2: names of headers that nginx itself has a meaning for are no upstream headers
--- run
for my $name ('X-User', 'X-User-Agent') {
    write_file("$RUN/engines/named.json", json({ %Keybound::DEFAULTS, upstream_headers_claims => ['sub'], upstream_headers_names => [$name] }));
    loads($name, '', '', "keybound on;\nkeybound_config \$KB/named.json;");
}
for my $name (qw(User-Agent X-Forwarded-For Referer Range)) {
    write_file("$RUN/engines/named.json", json({ %Keybound::DEFAULTS, upstream_headers_claims => ['sub'], upstream_headers_names => [$name] }));
    refuses_to_load($name, qr/$name/i, '', '', "keybound on;\nkeybound_config \$KB/named.json;");
}

=== TEST 3: a header of the client that was read before keybound took it away is not remembered
--- engine
kb: { "upstream_headers_claims": ["sub", "email"], "upstream_headers_names": ["X-User", "X-Email"] }
--- tls
set $early "$http_x_user$http_x_email";
location / { proxy_set_header X-Other "$http_x_user/$http_x_email"; $PROXY; }
--- run
my $seen = echoed(call(cert => 'client', token => 'bound', headers => ['X-User: root', 'X-Email: root@x']));
is(join(' ', map { $seen->{$_} // '-' } qw(x-user x-email x-other)), 'user-1 - user-1/', 'the upstream');
--- no_error_log
[error]

=== TEST 4: msie_refresh, which looks for the place to go on to
--- engine
kb: web
--- http_config
keybound_zone kb 1m;
--- tls
msie_refresh on;
--- run
for my $agent ('Mozilla/4.0 (compatible; MSIE 6.0)', 'curl') {
    my $response = call(cert => 'client', headers => ["User-Agent: $agent", 'Accept: text/html']);
    is($response->{status}, 302, $agent);
    like(scalar header($response, 'Location'), qr{^https://localhost:\d+/auth\?}, "$agent: where to");
}
--- no_error_log
[alert]
exited on signal

=== TEST 5: a redirected fetch is no answer, also where the other location answers before anything looks at it
--- engine
kb: peer
--- tls
location = /local { default_type application/json; return 200 '{"active":true,"aud":"https://api.test","exp":4000000000,"cnf":{"x5t#S256":"THUMBPRINT"}}'; }
--- run
for (['redirected', { 'X-Accel-Redirect' => '/local' }, '503 - introspection_unavailable'], ['its twin', {}, '200']) {
    my ($name, $headers, $expected) = @$_;
    peer_script({ '/introspect' => { json => { active() }, headers => $headers } });
    define(opaque => fresh());
    refuses({ cert => 'client', token => 'opaque' }, $expected, $name);
}
--- no_error_log
[alert]

=== TEST 6: statuses that are none: 503, and with report the request passes
--- engine
kb: peer { "introspection_cache_ttl_neg": 0 }
--- tls
location /report { keybound report; $PROXY; }
--- run
for my $status (600, 700, 999) {
    peer_script({ '/introspect' => { json => { active() }, status => $status } });
    define(opaque => fresh());
    refuses({ cert => 'client', token => 'opaque' }, '503 - introspection_unavailable', "status $status");
    is(call(cert => 'client', token => 'opaque', path => '/report')->{status}, 200, "$status: report");
}
peer_script({ '/introspect' => { json => { active() } } });
define(opaque => fresh());
passes({ cert => 'client', token => 'opaque' }, 'their twin');
--- no_error_log
[alert]

=== TEST 7: an answer that is larger than nginx's buffers: it comes whole, and nothing of it goes to a file
--- engine
kb: peer
--- tls
proxy_max_temp_file_size 0;
--- run
for my $size (1000, 70_000, 150_000) {
    peer_script({ '/introspect' => { json => { active(more => 'x' x $size) } } });
    define(opaque => fresh());
    passes({ cert => 'client', token => 'opaque' }, "$size bytes");
    refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', "$size bytes, of a thief");
}
is(scalar(() = glob "$ENV{TEST_NGINX_SERVROOT}/proxy_temp/*"), 0, 'no file');
--- no_error_log
[error]
[alert]

=== TEST 8: after its timeout a fetch is over: the next request on the same connection is answered at once
--- engine
slow: peer { "timeout": 500 }
kb:
--- run
peer_script({ '*' => { hang => JSON::PP::true } });
define(opaque => fresh());
my $from = Time::HiRes::time();
my ($timeout, $next) = calls_on_one_connection({ cert => 'client', token => 'opaque', path => '/slow' }, { cert => 'client', token => 'bound' });
my $took = Time::HiRes::time() - $from;
is("$timeout->{status} $next->{status}", '503 200', 'both are answered');
is($next->{connected}, 0, 'on one connection');
ok($took < 4, sprintf 'in %.2f s', $took);
--- no_error_log
[alert]

=== TEST 9: clients that go away while an answer is slow, cut, too large or never comes leave nothing open
--- engine
kb: peer { "timeout": 400 }
--- run
my ($pid) = (children(), master());
my $sockets = sub { return scalar grep { (readlink($_) // '') =~ /socket/ } glob "/proc/$pid/fd/*" };
my $before = $sockets->();
my $large = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 600000\r\n\r\n{" . ' ' x 400000;
my @answers = ({ hang => JSON::PP::true }, [{ send => substr $large, 0, 40000 }, { hang => JSON::PP::true }],
    [{ wait => 100 }, { send => $large }, { hang => JSON::PP::true }], [{ wait => 150 }, { json => { active => JSON::PP::false } }]);
for my $h2 (0, 1) {
    for my $answer (@answers) {
        peer_script({ '*' => $answer });
        my @started;
        for my $time (0.05, 0.1, 0.2, 0.3, 0.45, 2) {
            define(opaque => fresh());
            my @words = Keybound::_curl_words(cert => 'client', token => 'opaque', h2 => $h2);
            push @started, Keybound::start_command('', @words, '--max-time', $time, '-o', '/dev/null', '-w', '%{http_code}');
        }
        my @got = map { (Keybound::finish_command($_))[1] } @started;
        isnt($got[-1], 200, "HTTP/@{[ $h2 + 1 ]}: who stays is refused");
    }
}
ok(until_true(10, sub { $sockets->() <= $before }), "sockets: $before before, " . $sockets->() . ' after');
peer_script({ '/introspect' => { json => { active() } } });
define(opaque => fresh());
passes({ cert => 'client', token => 'opaque' }, 'the twin of all of them');
--- timeout: 60
--- no_error_log
[alert]
