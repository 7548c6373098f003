# What goes on to the upstream and back to the client: headers of claims, hidden credentials, and that nobody can bring them along.
use Module;
use Test::Nginx::Socket 'no_plan';

# plain(%call): one request to an upstream whose log has all headers as they came
sub plain {
    my (%call) = @_;
    peer_script({ '*' => { body => 'passed', headers => { 'X-User' => 'upstream', 'X-Kept' => 'upstream' } } }, 'plain');
    return call(path => '/plain', %call);
}

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(tls => ($block->tls // '') . "location /plain { proxy_http_version 1.1; proxy_set_header Connection close; proxy_pass http://\$PLAIN; }\n");
});

run_tests();

__DATA__

=== TEST 1: claims go upstream as headers
--- engine
kb: { "upstream_headers_claims": ["sub", "client_id", "level", "admin", "act", ["realm_access", "roles"], "ratio", "none", "empty"],
    "upstream_headers_names": ["X-User", "X-Client", "X-Level", "X-Admin", "X-Act", "X-Roles", "X-Ratio", "X-None", "X-Empty"] }
--- tokens eval
+{ rich => { for => 'client', claims => { sub => 'user 1', level => 7, admin => JSON::PP::true, act => { sub => 'x' }, realm_access => { roles => ['a', 'b'] }, ratio => 0.5, none => undef, empty => '' } } }
--- run
for my $h2 (0, 1) {
    # The second time it is remembered.
    for (1, 2) {
        is(plain(cert => 'client', token => 'rich', h2 => $h2)->{status}, 200, 'passes');
        is(plain_saw('x-.*'), 'x-act: {"sub":"x"}|x-admin: true|x-client: client-1|x-level: 7|x-ratio: 0.5|x-roles: ["a","b"]|x-user: user 1', 'as they are; null and empty are none');
    }
}
is(plain_saw('authorization'), 'authorization: Bearer ' . named_token('rich'), 'the token goes on');
--- no_error_log
[error]

=== TEST 2: what the client sends under these names never arrives, in either spelling: allowed, reported and answered by others
--- engine
kb: { "upstream_headers_claims": ["sub", "email"], "upstream_headers_names": ["X-User", "X-Email"] }
--- tls
underscores_in_headers on;
location /report { keybound report; proxy_pass http://$PLAIN; }
location /off { keybound off; proxy_pass http://$PLAIN; }
--- run
my @spoofed = map { "$_: root" } qw(X-User x-user X-USER X_User x_user X-Email x-eMail X_Email X-User_ X-Users);
for my $h2 (0, 1) {
    for my $method (qw(GET POST OPTIONS)) {
        plain(cert => 'client', token => 'bound', headers => [@spoofed, 'X-Other: stays'], h2 => $h2, method => $method);
        is(plain_saw('x.*'), 'x-other: stays|x-user: user-1|x-user_: root|x-users: root', "$method, allowed");
    }
    plain(cert => 'thief', token => 'bound', headers => \@spoofed, h2 => $h2, path => '/report');
    is(plain_saw('x.*'), 'x-user_: root|x-users: root', 'reported');
    plain(cert => 'thief', token => 'bound', headers => ['X-User: root'], h2 => $h2, path => '/off');
    is(plain_saw('x.*'), 'x-user: root', 'the twin, where keybound is off');
}
--- no_error_log
[error]

=== TEST 3: nor does the client take away what is sent
--- engine
kb: { "upstream_headers_claims": ["sub"], "upstream_headers_names": ["X-User"] }
--- run
for my $header ('Connection: X-User', 'Connection: close, x-user', 'Keep-Alive: X-User', 'Proxy-Connection: X-User', 'TE: trailers', 'Trailer: X-User') {
    plain(cert => 'client', token => 'bound', headers => [$header]);
    is(plain_saw('x-.*'), 'x-user: user-1', $header);
}
--- no_error_log
[error]

=== TEST 4: many headers: those of the claims are there however many the client sends
--- engine
kb: { "upstream_headers_claims": ["sub", "client_id"], "upstream_headers_names": ["X-User", "X-Client"] }
--- run
for my $n (0, 1, 15, 16, 17, 18, 19, 20, 39, 40, 41, 80) {
    plain(cert => 'client', token => 'bound', headers => [(map { "X-N$_: $_" } 1 .. $n), 'X-User: root']);
    my $saw = plain_saw('x-.*');
    is(scalar(() = $saw =~ /x-n\d+: /g), $n, "$n of the client");
    like($saw, qr/x-client: client-1\|.*x-user: user-1\z|^x-client: client-1\|x-user: user-1\z/, 'and those of the claims');
}
--- no_error_log
[error]

=== TEST 5: a claim with control characters is not sent
--- engine
kb: { "upstream_headers_claims": ["sub", "a"], "upstream_headers_names": ["X-User", "X-A"], "downstream_headers_claims": ["a"], "downstream_headers_names": ["X-A"] }
--- tokens eval
+{ evil => { for => 'client', claims => { a => "x\r\nX-Admin: 1" } }, good => { for => 'client', claims => { a => 'x X-Admin: 1' } } }
--- run
my $response = plain(cert => 'client', token => 'evil', headers => ['X-A: of the client']);
is(plain_saw('x-.*'), 'x-user: user-1', 'upstream');
is(join('|', header($response, 'X-A'), header($response, 'X-Admin')), '', 'downstream');
$response = plain(cert => 'client', token => 'good');
is(plain_saw('x-.*'), 'x-a: x X-Admin: 1|x-user: user-1', 'its twin, upstream');
is(join('|', header($response, 'X-A'), header($response, 'X-Admin')), 'x X-Admin: 1', 'its twin, downstream');
--- no_error_log
[error]

=== TEST 6: hide_credentials: the upstream gets no Authorization of an allowed request; reported and unhidden ones keep it
--- engine
kb: { "hide_credentials": true }
shown:
reporting: { "hide_credentials": true, "report_only": true }
--- tls
location /shown { keybound_config $KB/shown.json; proxy_pass http://$PLAIN; }
location /reporting { keybound_config $KB/reporting.json; proxy_pass http://$PLAIN; }
--- run
my $token = named_token('bound');
for my $h2 (0, 1) {
    for (['/plain', 'client', ''], ['/shown', 'client', "authorization: Bearer $token"], ['/reporting', 'thief', "authorization: Bearer $token"], ['/reporting', 'client', '']) {
        my ($path, $cert, $expected) = @$_;
        is(plain(cert => $cert, token => 'bound', path => $path, h2 => $h2, headers => ['X-Other: stays'])->{status}, 200, "$path, $cert: passes");
        is(plain_saw('authorization'), $expected, "$path, $cert");
        is(plain_saw('x-.*'), 'x-other: stays', "$path, $cert: the rest stays");
    }
}
is(echoed(call(cert => 'client', token => 'bound'))->{authorization}, undef, 'nor does $http_authorization have it');
--- no_error_log
[error]

=== TEST 7: the header of the variable is what the upstream sees, and not what the client sent
--- engine
kb: { "upstream_headers_claims": ["sub"], "upstream_headers_names": ["X-User"] }
--- tls
location /variable { proxy_set_header X-Other $http_x_user; $PROXY; }
--- run
my $seen = echoed(call(cert => 'client', token => 'bound', path => '/variable', headers => ['X-User: root']));
is(join(' ', map { $seen->{$_} // '-' } qw(x-user x-other)), 'user-1 user-1', '$http_x_user');
--- no_error_log
[error]

=== TEST 8: claims for the client: downstream headers take the place of the upstream's where the token has the claim
--- engine
kb: { "downstream_headers_claims": ["sub", "email"], "downstream_headers_names": ["X-User", "X-Kept"] }
--- tls
location /report { keybound report; proxy_pass http://$PLAIN; }
--- tokens eval
+{ mail => { for => 'client', claims => { email => 'user@example.org' } } }
--- run
for my $h2 (0, 1) {
    for (['bound', 'client', '/plain', 'user-1|upstream'], ['mail', 'client', '/plain', 'user-1|user@example.org'], ['bound', 'thief', '/report', 'upstream|upstream'], ['bound', 'thief', '/plain', '']) {
        my ($token, $cert, $path, $expected) = @$_;
        my $response = plain(cert => $cert, token => $token, path => $path, h2 => $h2);
        is(join('|', header($response, 'X-User'), header($response, 'X-Kept')), $expected, "$token, $cert, $path");
    }
}
--- no_error_log
[error]

=== TEST 9: downstream headers of errors of the upstream and of static files, too
--- engine
kb: { "downstream_headers_claims": ["sub"], "downstream_headers_names": ["X-User"] }
--- tls
location /gone { proxy_pass http://127.0.0.1:9; }
location /file { alias $RUN/file; }
--- init
Keybound::write_file("$Keybound::RUN/file", 'a file')
--- run
for (['/gone', 502], ['/file', 200]) {
    my ($path, $status) = @$_;
    my $response = call(cert => 'client', token => 'bound', path => $path);
    is(join(' ', $response->{status}, header($response, 'X-User')), "$status user-1", $path);
}

=== TEST 10: bodies: what was let through gets all of it, at once or after 100, over HTTP/1.1 and HTTP/2
--- tls
client_max_body_size 30m;
location /body { proxy_http_version 1.1; proxy_pass http://$PLAIN; }
--- run
my $large = join '', map { chr 33 + $_ % 90 } 1 .. 300_000;
for my $h2 (0, 1) {
    for my $data ('a=b', $large) {
        my $response = plain(cert => 'client', token => 'bound', method => 'POST', data => $data, h2 => $h2, path => '/body');
        is($response->{status}, 200, 'passes');
        my ($last) = sort { $b->{time} <=> $a->{time} } map { @{ $_->{requests} } } @{ peer_log('plain')->{log} };
        ok($last->{body} eq $data, length($data) . ' bytes');
    }
}
# curl asks first, and waits for the 100.
my ($curl, @words) = grep { $_ ne 'Expect:' } Keybound::_curl_words(cert => 'client', token => 'bound', method => 'POST', path => '/body', headers => ['Expect: 100-continue']);
my (undef, $out) = command('', $curl, @words, '--data-binary', '@' . write_file("$RUN/data", $large), '-i');
like($out, qr{^HTTP/1\.1 100 Continue\r\n\r\nHTTP/1\.1 200 }, 'continue');
($curl, @words) = Keybound::_curl_words(cert => 'thief', token => 'bound', method => 'POST', path => '/body', headers => ['Expect: 100-continue']);
(undef, $out) = command('', $curl, (grep { $_ ne 'Expect:' } @words), '--data-binary', "\@$RUN/data", '-i');
unlike($out, qr/ 100 Continue/, 'a refusal comes without it');
like($out, qr{^HTTP/1\.1 401 }, 'at once');
--- no_error_log
[error]
