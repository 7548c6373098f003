# The nginx module among nginx's own: satisfy, auth_request, internal locations, error pages, internal redirects, and where there is no access
# phase.
use Module;
use Test::Nginx::Socket 'no_plan';

my $BASIC = 'Basic dXNlcjpwYXNz';
mkdir "$RUN/www";
write_file("$RUN/www/$_->[0]", $_->[1]) for ['app.html', 'the application'], ['index.html', 'the index'];
# user:pass
write_file("$RUN/htpasswd", "user:{PLAIN}pass\n");
chmod 0755, $RUN, "$RUN/www";

sub basic { return { cert => 'client', authorization => $BASIC, @_ } }

# answers(CALL, EXPECTED, NAME): the status and the reasons that were logged
sub answers {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(%$call);
    is(join(' ', $response->{status}, map { /(\w+)$/ } reasons()), $expected, $name);
    return $response;
}

run_tests();

__DATA__

=== TEST 1: satisfy all, with allow and deny: both must let a request through
--- tls
location /allow { allow 127.0.0.1; deny all; $PROXY; }
location /deny { deny all; $PROXY; }
--- calls
client bound path=/allow -> 200
thief  bound path=/allow -> 401 invalid_token certificate_mismatch
client bound path=/deny -> 403 nginx
--- error_log
access forbidden by rule

=== TEST 2: satisfy any, with allow and deny: one is enough, and if none lets it through the challenge is keybound's
--- tls
satisfy any;
location /allow { allow 127.0.0.1; deny all; $PROXY; }
location /deny { deny all; $PROXY; }
--- run
is(call(cert => 'thief', token => 'bound', path => '/allow')->{status}, 200, 'the address');
answers({ cert => 'client', token => 'bound', path => '/deny' }, 200, 'the token');
for my $h2 (0, 1) {
    my $response = answers({ cert => 'thief', token => 'bound', path => '/deny', h2 => $h2 }, '401 certificate_mismatch', 'neither');
    is(scalar header($response, 'WWW-Authenticate'), 'Bearer error="invalid_token"', 'the challenge');
    $response = answers({ path => '/deny', h2 => $h2 }, '401 no_token', 'no token');
    is(scalar header($response, 'WWW-Authenticate'), 'Bearer', 'the challenge');
}

=== TEST 3: satisfy any, with auth_basic: a password or a token; neither gets both challenges or one, and a 401
--- tls
satisfy any;
auth_basic "people";
auth_basic_user_file $RUN/htpasswd;
--- run
answers({ cert => 'client', token => 'bound' }, 200, 'a token');
my $response = call(%{ basic() });
is($response->{status}, 200, 'a password');
is(scalar header($response, 'WWW-Authenticate'), '', 'no challenge is left of the other one');
$response = answers({ cert => 'thief', token => 'bound' }, '401 certificate_mismatch', 'a stolen token');
like(join(', ', header($response, 'WWW-Authenticate')), qr/Bearer error="invalid_token"/, 'the challenge');
$response = answers(basic(authorization => 'Basic dXNlcjpubw=='), '401 no_token', 'a wrong password');
like(join(', ', header($response, 'WWW-Authenticate')), qr/Bearer|Basic/, 'a challenge');

=== TEST 4: satisfy any: keybound report has no say: others decide, whatever it would say
--- tls
satisfy any;
keybound report;
location /deny { deny all; $PROXY; }
location /allow { allow 127.0.0.1; deny all; $PROXY; }
--- run
is(call(cert => 'client', token => 'bound', path => '/deny')->{status}, 403, 'an allowed one does not open what is shut');
is(call(cert => 'thief', token => 'bound', path => '/deny')->{status}, 403, 'nor one that would be refused');
is(call(cert => 'thief', token => 'bound', path => '/allow')->{status}, 200, 'and it shuts nothing');
is(call(cert => 'thief', token => 'bound')->{status}, 200, 'alone it lets through');

=== TEST 5: satisfy any: who comes in by another way brings no header of a claim along
--- engine
kb: { "upstream_headers_claims": ["sub"], "upstream_headers_names": ["X-User"] }
--- tls
satisfy any;
allow 127.0.0.1;
deny all;
--- run
my $response = call(cert => 'thief', token => 'bound', headers => ['X-User: root', 'X-Other: stays']);
is($response->{status}, 200, 'by the address');
my $seen = echoed($response);
is(join(' ', map { $seen->{$_} // '-' } qw(x-user x-other)), '- stays', 'what the upstream saw');
$seen = echoed(answers({ cert => 'client', token => 'bound', headers => ['X-User: root'] }, 200, 'its twin with a token'));
is($seen->{'x-user'}, 'user-1', 'its own');

=== TEST 6: auth_request beside keybound: both must agree
--- tls
location /both { auth_request /auth; $PROXY; }
location /never { auth_request /refuse; $PROXY; }
location = /auth { internal; keybound off; proxy_pass http://$UPSTREAM:/auth; }
location = /refuse { internal; proxy_pass http://$UPSTREAM:/refuse; }
--- servers
server { listen $UPSTREAM; location / { return 200 "passed\n"; } location = /refuse { return 403; } }
--- run
answers({ cert => 'client', token => 'bound', path => '/both' }, 200, 'both');
answers({ cert => 'thief', token => 'bound', path => '/both' }, '401 certificate_mismatch', 'keybound refuses');
answers({ cert => 'client', token => 'bound', path => '/never' }, 403, 'auth_request refuses');
--- no_error_log
[alert]

=== TEST 7: keybound decides before or after auth_request all the same when it has to wait
--- engine
kb: keys
--- tls
location /both { auth_request /auth; $PROXY; }
location = /auth { internal; proxy_pass http://$UPSTREAM:/auth; }
--- run
answers({ cert => 'client', token => 'as:client', path => '/both' }, 200, 'the keys are fetched');
answers({ cert => 'thief', token => 'as:client', path => '/both' }, '401 certificate_mismatch', 'of a thief');
--- no_error_log
[error]
[alert]

=== TEST 8: a subrequest has no access phase of its own: what an auth_request asks is not decided about
--- tls
location /both { keybound off; auth_request /auth; $PROXY; }
location = /auth { internal; keybound on; proxy_pass http://$UPSTREAM:/auth; }
location = /direct { keybound on; $PROXY; }
--- run
answers({ cert => 'thief', token => 'bound', path => '/both' }, 200, 'nginx asks the location, and not keybound');
answers({ cert => 'thief', token => 'bound', path => '/direct' }, '401 certificate_mismatch', 'its twin, asked by a client');
answers({ cert => 'client', token => 'bound', path => '/auth' }, 404, 'internal is for clients not there');
--- no_error_log
[alert]

=== TEST 9: internal locations: the one that is behind a redirect is decided about by its own configuration
--- tls
location /accel { keybound off; proxy_pass http://$UPSTREAM:/accel; }
location /inside { internal; $PROXY; }
--- servers
server { listen $UPSTREAM; location / { return 200 "passed\n"; } location = /accel { add_header X-Accel-Redirect /inside; return 200; } }
--- run
answers({ cert => 'client', token => 'bound', path => '/accel' }, 200, 'X-Accel-Redirect');
answers({ cert => 'thief', token => 'bound', path => '/accel' }, '401 certificate_mismatch', 'of a thief');
answers({ cert => 'client', token => 'bound', path => '/inside' }, 404, 'straight');
--- no_error_log
[alert]

=== TEST 10: try_files, index, rewrite and error_page: whoever was let through is let through behind them, with its credentials hidden, too
--- engine
kb: { "hide_credentials": true, "upstream_headers_claims": ["sub"], "upstream_headers_names": ["X-User"] }
--- tls
root $RUN/www;
location / { try_files $uri /app.html; }
location /dir/ { alias $RUN/www/; index index.html; }
location = /rewritten { rewrite ^ /upstream last; }
location /upstream { $PROXY; }
location /accel { proxy_pass http://$UPSTREAM:/accel; }
location /broken { proxy_pass http://127.0.0.1:9; error_page 502 = /upstream; }
location /named { try_files /nothing @named; }
location @named { $PROXY; }
--- servers
server { listen $UPSTREAM; location / { return 200 "passed\nauthorization: $http_authorization\nx-user: $http_x_user\n"; } location = /accel { add_header X-Accel-Redirect /upstream; return 200; } }
--- run
for my $h2 (0, 1) {
    for (['/some/page', 'the application'], ['/dir/', 'the index'], ['/rewritten', 'passed'], ['/accel', 'passed'], ['/broken', 'passed'], ['/named', 'passed']) {
        my ($path, $body) = @$_;
        my $response = answers({ cert => 'client', token => 'bound', path => $path, h2 => $h2, headers => ['X-User: root'] }, 200, $path);
        like($response->{body}, qr/^\Q$body\E/, "$path: what it leads to");
        is(join(' ', map { echoed($response)->{$_} // '-' } qw(authorization x-user)), '- user-1', "$path: the upstream") if $body eq 'passed';
        answers({ cert => 'thief', token => 'bound', path => $path, h2 => $h2 }, '401 certificate_mismatch', "$path: of a thief");
        answers({ path => $path, h2 => $h2 }, '401 no_token', "$path: without a token");
    }
}
--- no_error_log
[alert]

=== TEST 11: a redirect to a location with another policy: that one decides, too
--- tls
location /a { rewrite ^ /b last; }
location /b { keybound_scope write; $PROXY; }
location /c { proxy_pass http://127.0.0.1:9; error_page 502 = /b; }
--- tokens eval
+{ write => { for => 'client', claims => { scope => 'write' } } }
--- run
for my $path (qw(/a /b /c)) {
    answers({ cert => 'client', token => 'bound', path => $path }, '403 insufficient_scope', "$path: read");
    answers({ cert => 'client', token => 'write', path => $path }, 200, "$path: write");
}
--- no_error_log
[alert]

=== TEST 12: error_page 401 and 403: nginx's page, keybound's challenge; others go on as they are
--- engine
kb: { "scopes_required": ["read"] }
--- tls
error_page 401 @login;
error_page 403 = /forbidden;
location @login { keybound off; add_header X-Page login always; $PROXY; }
location = /forbidden { keybound off; add_header X-Page forbidden always; $PROXY; }
--- tokens eval
+{ poor => { for => 'client', claims => { scope => 'other' } } }
--- run
for my $h2 (0, 1) {
    my $response = answers({ cert => 'thief', token => 'bound', h2 => $h2 }, '401 certificate_mismatch', '401');
    is(scalar header($response, 'X-Page'), 'login', 'by the page');
    is(scalar header($response, 'WWW-Authenticate'), 'Bearer error="invalid_token"', 'with the challenge');
    like($response->{body}, qr/^passed/, 'its body');
    $response = answers({ cert => 'client', token => 'poor', h2 => $h2 }, '200 insufficient_scope', '403, and the page says 200');
    is(scalar header($response, 'X-Page'), 'forbidden', 'by the page');
    $response = answers({ cert => 'client', token => 'bound', path => '/?access_token=x', h2 => $h2 }, '400 several_tokens', '400');
    is($response->{body}, '{"message":"Bad Request"}', 'has none');
    answers({ cert => 'client', token => 'bound', h2 => $h2 }, 200, 'its twin');
}

=== TEST 13: error_page 401 = @login for satisfy any, too
--- tls
satisfy any;
deny all;
error_page 401 = @login;
location @login { keybound off; allow all; satisfy all; return 302 https://login.test/; }
--- run
my $response = answers({ cert => 'thief', token => 'bound' }, '302 certificate_mismatch', 'refused');
is(scalar header($response, 'Location'), 'https://login.test/', 'to the login');
answers({ cert => 'client', token => 'bound' }, 200, 'its twin');

=== TEST 14: error_page 495 496: nginx's verdict on a certificate stands, in keybound's form
--- init
dated('future', 3600, 7200)
--- tls
error_page 495 496 = @refused;
location @refused { $PROXY; }
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

=== TEST 15: error_page 496: none where nginx demands one
--- tls
ssl_verify_client on;
ssl_client_certificate $PKI/ca.crt;
error_page 495 496 = @refused;
location @refused { $PROXY; }
--- calls
-           bound           -> 401 invalid_token certificate_refused
self-signed for:self-signed -> 401 invalid_token certificate_refused
client      bound           -> 200
--- no_error_log
[error]

=== TEST 16: limit_except, if and nested locations: the policy of the location that serves
--- tls
location /methods { limit_except GET { deny all; } $PROXY; }
location /if { if ($arg_x) { set $y 1; } $PROXY; }
location ~ \.open$ { keybound off; $PROXY; }
location /a { location ~ ^/a/open { keybound off; $PROXY; } $PROXY; }
--- run
answers({ cert => 'client', token => 'bound', path => '/methods' }, 200, 'GET');
answers({ cert => 'thief', token => 'bound', path => '/methods' }, '401 certificate_mismatch', 'GET of a thief');
is(call(cert => 'client', token => 'bound', path => '/methods', method => 'POST', data => 'x')->{status}, 403, 'POST');
answers({ cert => 'thief', token => 'bound', path => $_ }, '401 certificate_mismatch', $_) for '/if?x=1', '/a/closed', '/if';
answers({ cert => 'client', token => 'bound', path => $_ }, 200, $_) for '/if?x=1', '/a/closed', '/if';
answers({ path => $_ }, 200, $_) for '/x.open', '/a/open';

=== TEST 17: a handler in the content phase is not reached by who is refused: nothing is sent to the upstream
--- tls
location /plain { proxy_pass http://$PLAIN; }
--- run
peer_script({ '*' => { body => 'passed' } }, 'plain');
my $count = sub { return scalar map { @{ $_->{requests} } } @{ peer_log('plain')->{log} } };
my $before = $count->();
answers({ cert => 'thief', token => 'bound', path => '/plain', method => 'POST', data => 'x' }, '401 certificate_mismatch', 'refused');
is($count->(), $before, 'nothing came');
answers({ cert => 'client', token => 'bound', path => '/plain' }, 200, 'its twin');
is($count->(), $before + 1, 'came');
--- no_error_log
[error]

=== TEST 18: mirror and slice subrequests of an allowed request are its own
--- tls
location / { mirror /mirror; $PROXY; }
location = /mirror { internal; proxy_pass http://$PLAIN; }
--- run
peer_script({ '*' => { body => 'mirrored' } }, 'plain');
my $count = sub { return scalar map { @{ $_->{requests} } } @{ peer_log('plain')->{log} } };
my $before = $count->();
answers({ cert => 'client', token => 'bound' }, 200, 'allowed');
ok(until_true(2, sub { $count->() == $before + 1 }), 'it is mirrored');
answers({ cert => 'thief', token => 'bound' }, '401 certificate_mismatch', 'refused');
is($count->(), $before + 1, 'and that is not');
--- no_error_log
[error]
