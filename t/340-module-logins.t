# Logins, sessions and grants in the nginx module, with a real authorization server and a browser: the code flow, sessions in cookies and in the
# zone, refresh, logout, credentials of headers and of forms.
use Module;
use Logins;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

# Each engine NAME is behind /at/NAME, and has its callback there if it is one that logs in. The upstream says what it saw, as JSON.
my $API = <<'EOC';
server {
    listen $UPSTREAM;
    large_client_header_buffers 4 64k;
    client_max_body_size 30m;
    location / {
        default_type application/json;
        return 200 '{"passed":"yes","method":"$request_method","target":"$request_uri","authorization":"$http_authorization","cookie":"$http_cookie","sub":"$http_x_sub","refresh":"$http_refresh_token","length":"$content_length"}';
    }
}
EOC
add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = $block->engine // 'kb: web';
    my @names = grep { $_ ne 'kb' } $engine =~ /^(\w+):/mg;
    as_control('/redirect', { client_id => 'web', redirect_uris => [ 'https://api.test/callback', map { "https://api.test/at/$_/callback" } @names ] });
    $block->set_value(engine => $engine);
    $block->set_value(servers => $API);
    $block->set_value(http_config => "keybound_zone kb 4m;\nlog_format pids '\$pid';\n" . ($block->http_config // ''));
    my $at = join '', map { "location /at/$_ { keybound_config \$KB/$_.json; proxy_set_header X-Sub \$keybound_subject; \$PROXY; }\n" } @names;
    $block->set_value(tls => <<'EOC' . $at . ($block->tls // ''));
large_client_header_buffers 4 32k;
proxy_buffer_size 64k;
proxy_buffers 4 64k;
client_max_body_size 30m;
location / { proxy_set_header X-Sub $keybound_subject; $PROXY; }
EOC
    $block->set_value(config => 'location = /metrics { keybound_metrics; }');
});

sub lives { as_control('/ttl', $_[0] ? { AccessToken => $_[0] } : {}) }
sub forget { as_control('/log/clear'); log_mark() }
sub logs_in {
    my ($name, $jar, %how) = @_;
    my $got = sees($name, $FLOW, jar => $jar, user => 'alice', %how);
    known('a token', bearer($got));
    return $got;
}
sub basic { my ($user, $password) = @_; $password //= "$user-password"; known('credentials', $password); return 'Basic ' . MIME::Base64::encode_base64("$user:$password", '') }
# The same as `outcome` of `visit`, of this one alone
sub comes_of { log_mark(); return outcome(visit(@_)) }
sub form { return (method => 'POST', data => $_[0], headers => ['Content-Type: application/x-www-form-urlencoded', @_[1 .. $#_]]) }
sub says { return join ' ', map { /Expires=Thu, 01 Jan 1970/ ? 'removed' : 'set' } header($_[0], 'Set-Cookie') }

run_tests();

__DATA__

=== TEST 1: 8705-2.1, 6749-4.1, 7636-4.3: a login by authorization code, over mutual TLS, and back where it began; a session bound to the certificate
--- run
forget();
my $got = logs_in('a login', 'a', path => '/hello?x=1&y=%2Fz');
is($got->{url}, 'https://api.test/hello?x=1&y=%2Fz', 'back where it began');
is(seen($got)->{sub}, 'alice', 'it is alice');
like(seen($got)->{authorization}, qr/^Bearer eyJ/, 'the upstream gets the token');
is(seen($got)->{cookie}, '', 'and no cookie');
is(shown('/token'), 'authorization_code client_id=web certificate=web port=mtls 200', 'who asks for tokens');
works('the session', 'a');
stolen('a', 'thief');
sees('of another', '401 session_certificate_mismatch', jar => 'thief', cert => 'thief', fetch => 1);
stolen('a', 'thief');
sees('without one', '401 session_certificate_missing', jar => 'thief', cert => '-', fetch => 1);
works('its own', 'a');
--- no_error_log
[error]
[alert]

=== TEST 2: the lines of the log: answered at notice, refused at warn
--- run
log_mark();
browse(cert => 'client', jar => 'a', user => 'alice');
my @lines = grep { /keybound:/ } split /\n/, log_since();
is(scalar @lines, 2, 'two lines');
like($lines[0], qr/\[notice\] .* keybound: answered, reason=login_started, status=302, token=-, request_id=[0-9a-f]{32}/, 'a login begins');
like($lines[1], qr/\[notice\] .* keybound: answered, reason=login_completed, status=302, token=-, request_id=[0-9a-f]{32}/, 'and ends');
log_mark();
browse(jar => 'a', fetch => 1);
like(log_since(), qr/\[warn\] .* keybound: refused, reason=session_certificate_missing, status=401, token=/, 'a refusal');
--- no_error_log
[error]

=== TEST 3: who is sent to log in and who is not: pages for people, JSON for programs
--- run
my @navigation = ('Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document', 'Accept: text/html');
for (
    [ '302 login_started', 'a navigation', headers => \@navigation ],
    [ '302 login_started', 'a browser that says nothing of modes', headers => [ 'Accept: application/xml, text/html;q=0.9' ] ],
    [ '401 no_token', 'a form', headers => \@navigation, method => 'POST', data => 'x=1' ],
    [ '401 no_token', 'HEAD', headers => \@navigation, method => 'HEAD' ],
    [ '401 no_token', 'a program', headers => [ 'Accept: */*' ] ],
    [ '401 no_token', 'fetch()', headers => [ 'Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty', 'Accept: text/html' ] ],
    [ '401 no_token', 'a frame', headers => [ 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe', 'Accept: text/html' ] ],
) {
    my ($expected, $name, %call) = @$_;
    for my $h2 (0, 1) {
        log_mark();
        my $response = call(cert => 'client', h2 => $h2, %call);
        is(join(' ', $response->{status}, log_since() =~ /keybound: \w+, reason=(\w+)/g), $expected, $name . ($h2 ? ', HTTP/2' : ''));
        is(scalar(my @cookies = header($response, 'Set-Cookie')), $expected =~ /^302/ ? 1 : 0, "$name: cookies");
        is(scalar header($response, 'WWW-Authenticate'), $expected =~ /^302/ ? '' : 'Bearer', "$name: the challenge");
        is(scalar header($response, 'Cache-Control'), 'no-store', "$name: nobody keeps it");
        like(scalar header($response, 'Location'), qr{^https://localhost:\d+/auth\?}, "$name: where to") if $expected =~ /^302/;
    }
}
--- no_error_log
[error]

=== TEST 4: sessions in the zone: an id in the cookie; a logout ends all copies; each worker knows it
--- engine
kb: web { "session_storage": "store", "logout_uri_suffix": "/logout" }
--- run
logs_in('a login', 'a');
is(length((cookie('a') // '') =~ s/^1\.//r), 43, 'an id');
jar('b', jar('a'));
is(comes_of(jar => 'b'), '200', 'a copy works') for 1 .. 6;
forget();
is(outcome(visit(jar => 'a', method => 'POST', path => '/logout')), '200 | 200 logged_out', 'logged out');
is(cookie('a'), undef, 'the cookie is removed');
for (1 .. 6) {
    log_mark();
    is(outcome(visit(jar => 'b')), '401 | 401 session_expired', 'the copy is over');
}
--- no_error_log
[error]
[alert]

=== TEST 5: sessions outlive a reload, in cookies and in the zone
--- engine
kb: web
store: web { "session_storage": "store", "session_cookie_name": "__Host-store", "redirect_uri": "https://api.test/at/store/callback" }
--- run
logs_in('in a cookie', 'a');
logs_in('in the zone', 'b', path => '/at/store');
ok(hup(), 'reloaded');
for (1 .. 4) {
    is(comes_of(jar => 'a'), '200', 'in a cookie');
    is(comes_of(jar => 'b', path => '/at/store'), '200', 'in the zone');
}
--- no_error_log
[error]
[alert]

=== TEST 6: 6749-6: refreshed before its end, once for many at once over both workers; the browser gets the new session
--- engine
kb: web
--- run
lives(9);
my $got = logs_in('a login', 'a');
my $first = bearer($got);
my $end = claims($first)->{iat} + 6.3;
my $before = cookies('a');
is(bearer(visit(jar => 'a')), $first, 'the same token while it is young');
until_s($end);
forget();
my @responses = crowd(12, jar => 'a');
is(join(' ', map { $_->{status} } @responses), join(' ', (200) x 12), 'all pass');
is(granted_by_as('refresh_token'), 1, 'one refresh');
is(shown('/token'), 'refresh_token client_id=web certificate=web port=mtls 200', 'as the client');
my $response = visit(jar => 'a');
is(outcome($response), '200', 'and the next');
lives();
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 7: a logout revokes both tokens, and a browser goes on to the end of its login there
--- engine
kb: web { "logout_uri_suffix": "/logout" }
--- run
logs_in('a login', 'a');
forget();
sees('logged out', '302 logged_out', jar => 'a', path => '/logout', from => 'https://api.test/', method => 'POST', no_follow => 1);
# Its JWTs this server does not revoke: 400.
is(shown('/token/revocation'), "refresh_token client_id=web certificate=web port=mtls 200\naccess_token client_id=web certificate=web port=mtls 400", 'both are to be revoked');
sees('it is over', '401 no_token', jar => 'a', fetch => 1);
--- no_error_log
[error]
[alert]

=== TEST 8: 9126-2: pushed requests: a body of keybound's in the middle of a GET
--- engine
kb: web { "require_pushed_authorization_requests": true }
--- run
forget();
my $got = logs_in('a login', 'a', path => '/hello?x=1');
is(join(' ', sort keys %{ query($got->{hops}[0]{location}) }), 'client_id request_uri', 'what the browser brings');
is(shown('/request'), '- client_id=web certificate=web port=mtls 201', 'who pushed');
--- no_error_log
[error]
[alert]

=== TEST 9: attacks on the way back: another browser, another state, a second time, an error
--- run
my $url = begun(jar => 'a');
returns('another browser', '400 login_state_missing', $url, jar => 'b');
returns('another state', '400 login_state_missing', $url =~ s/state=[^&]*/'state=' . 'A' x 43/er, jar => 'a');
stolen('a', 'copy');
returns('the right one', '302 login_completed', $url, jar => 'a');
# In each worker: what was used is used.
for my $round (1 .. 3) {
    stolen('copy', "copy$round");
    returns("a second time, $round", '400 login_state_reused', $url, jar => "copy$round");
}
works('the session', 'a');
my $error = begun(jar => 'c') =~ s/code=[^&]*/error=access_denied/r;
returns('an error', '403 login_refused', $error, jar => 'c');
--- no_error_log
[error]
[alert]

=== TEST 10: the cookies of keybound do not reach the upstream, others do; and what the client says of Authorization is not the session's
--- run
logs_in('a login', 'a');
my $seen = seen(visit(jar => 'a', headers => ['Cookie: other=1']));
is($seen->{cookie} // '', 'other=1', 'of another line');
my ($session) = cookies('a');
$seen = seen(call(cert => 'client', headers => ["Cookie: one=1; $session; two=2"]));
is($seen->{cookie}, 'one=1; two=2', 'in the middle of others');
like($seen->{authorization}, qr/^Bearer eyJ/, 'the token of the session');
$seen = seen(call(cert => 'client', h2 => 1, headers => ['Cookie: one=1', "Cookie: $session", 'Cookie: two=2']));
is($seen->{cookie}, 'one=1; two=2', 'HTTP/2, each in a header of its own');
like($seen->{authorization}, qr/^Bearer eyJ/, 'the token of the session');
--- no_error_log
[error]
[alert]

=== TEST 11: the upstream's own cookies stay beside those of a session
--- engine
kb: web { "session_rolling_timeout": 8 }
--- tls
add_header Set-Cookie "app=1; Path=/";
--- run
logs_in('a login', 'a');
pause(6.2);
log_mark();
my $response = visit(jar => 'a');
is(outcome($response), '200', 'renewed');
is(join(' ', sort map { /^([^=]+)/ } header($response, 'Set-Cookie')), '__Host-session app', 'both cookies');
is(scalar(header($response, 'Cache-Control')) =~ /no-store|^$/ ? 1 : 0, 1, 'and no cache keeps it');
--- timeout: 30
--- no_error_log
[error]
[alert]

=== TEST 12: rfc6749_4_3: a password from the header or from a form, which still reaches the upstream; each over mutual TLS
--- engine
kb: web { "auth_methods": ["password"], "proof_of_possession_mtls": "off", "redirect_uri": null, "session_secret": null, "session_bind_certificate": null }
body: web { "auth_methods": ["password"], "proof_of_possession_mtls": "off", "redirect_uri": null, "session_secret": null, "session_bind_certificate": null, "password_param_type": ["body"] }
hide: web { "auth_methods": ["password"], "proof_of_possession_mtls": "off", "redirect_uri": null, "session_secret": null, "session_bind_certificate": null, "hide_credentials": true }
--- tls
location /at/body/plain { keybound_config $KB/body.json; proxy_http_version 1.1; proxy_set_header Connection close; proxy_pass http://$PLAIN; }
--- run
forget();
my $response = visit(authorization => basic('alice'));
is(outcome($response), '200', 'alice');
is(seen($response)->{sub}, 'alice', 'is alice');
is(claims(bearer($response))->{cnf}{'x5t#S256'}, thumbprint('web'), 'the token is bound to the gateway, and takes the place of the password');
is(shown('/token'), 'password client_id=web certificate=web port=mtls 200', 'seen by the server');
is(seen(visit(path => '/at/hide', authorization => basic('alice')))->{authorization}, '', 'hide_credentials');
log_mark();
is(outcome(visit(authorization => basic('alice', 'wrong-password'))), '401 | 401 credentials_refused', 'a wrong one');
peer_script({ '*' => { body => 'passed' } }, 'plain');
for my $h2 (0, 1) {
    for my $more ('', '&pad=' . 'x' x 15_000) {
        my $form = "a=1&username=alice&password=alice-password$more";
        log_mark();
        $response = visit(path => '/at/body/plain', h2 => $h2, form($form));
        is(outcome($response), '200', 'a form of ' . length $form);
        my ($last) = sort { $b->{time} <=> $a->{time} } map { @{ $_->{requests} } } @{ peer_log('plain')->{log} };
        is($last->{body}, $form, 'reaches the upstream');
        like($last->{headers}{authorization}, qr/^Bearer eyJ/, 'with a token');
    }
}
for my $case ([ 'a wrong password', '401 credentials_refused', form('username=alice&password=wrong') ], [ 'a password twice', '400 credentials_malformed', form('username=alice&password=a&password=b') ],
    [ 'a name alone', '401 no_token', form('username=alice') ], [ 'JSON', '401 no_token', method => 'POST', data => '{"username":"alice"}', headers => ['Content-Type: application/json'] ],
    [ 'nothing', '401 no_token' ], [ 'a form that is longer than credentials are', '401 no_token', form('username=alice&password=alice-password&pad=' . 'x' x 30_000) ], [ 'an empty form', '401 no_token', form('') ]) {
    my ($name, $expected, @call) = @$case;
    log_mark();
    is(outcome(visit(path => '/at/body', @call)), (split ' ', $expected)[0] . " | $expected", $name);
}
--- timeout: 60
--- no_error_log
[alert]

=== TEST 13: a form by expect 100, and one whose client goes away in the middle
--- engine
kb: web { "auth_methods": ["password"], "proof_of_possession_mtls": "off", "redirect_uri": null, "session_secret": null, "session_bind_certificate": null, "password_param_type": ["body"] }
--- run
my ($curl, @words) = Keybound::_curl_words(cert => 'client', method => 'POST', headers => ['Content-Type: application/x-www-form-urlencoded', 'Expect: 100-continue']);
my (undef, $out) = command('', $curl, @words, '--data-binary', 'username=alice&password=alice-password', '-i');
like($out, qr{^HTTP/1\.1 100 Continue\r\n\r\nHTTP/1\.1 200 }, 'continue');
my $gone = start_s_client(cert => 'client', headers => ['Content-Type: application/x-www-form-urlencoded', 'Content-Length: 1000']);
pause(0.3);
kill KILL => $gone->{pid};
finish_s_client($gone);
log_mark();
is(outcome(visit(form('username=alice&password=alice-password'))), '200', 'the next one');
--- no_error_log
[alert]
exited on signal

=== TEST 14: a refresh token of the client's: the next one comes with the answer, and the old one does not go on
--- engine
kb: web { "auth_methods": ["refresh_token"], "proof_of_possession_mtls": "off", "redirect_uri": null, "session_secret": null, "session_bind_certificate": null }
--- run
my $answer = as_request('/token', { grant_type => 'password', username => 'alice', password => 'alice-password', scope => 'openid read' }, client => 'web', cert => 'web');
my $token = $answer->{refresh_token};
known('a refresh token', $token);
log_mark();
my $response = call(cert => 'client', headers => ["Refresh-Token: $token"]);
is(outcome($response), '200', 'passes');
is(seen($response)->{refresh}, '', 'it does not go on');
my ($next) = header($response, 'Refresh-Token');
ok($next && $next ne $token, 'the next one');
is(join(' ', header($response, 'Cache-Control')), 'no-store', 'nobody keeps it');
known('a refresh token', $next);
--- no_error_log
[alert]

=== TEST 15: upstream_client_credentials: the upstream gets a token of the gateway, asked for once
--- engine
kb: web { "auth_methods": ["bearer"], "scopes": null, "redirect_uri": null, "session_secret": null, "session_bind_certificate": null, "upstream_client_credentials": true }
--- run
named_token('as:client');
forget();
for (1 .. 4) {
    my $response = call(cert => 'client', token => 'as:client');
    is($response->{status}, 200, 'passes');
    is(claims(bearer($response))->{client_id}, 'web', 'with a token of the gateway');
    isnt(bearer($response), named_token('as:client'), 'in place of its own');
}
is(granted_by_as('client_credentials'), 1, 'asked for once');
log_mark();
is(outcome(call(cert => 'thief', token => 'as:client')), '401 | 401 certificate_mismatch', 'of a thief');
--- no_error_log
[error]
[alert]

=== TEST 16: sessions and internal redirects: try_files leads on with the session, decided once more by what the client sent
--- init
mkdir "$Keybound::RUN/www"; Keybound::write_file("$Keybound::RUN/www/app.html", 'the application'); chmod 0755, $Keybound::RUN, "$Keybound::RUN/www"
--- tls
location /app { root $RUN/www; try_files $uri /app.html; }
location = /app.html { root $RUN/www; }
--- run
logs_in('a login', 'a');
for my $path ('/app/page', '/app.html') {
    my $seen = browse(jar => 'a', cert => 'client', path => $path);
    is(scalar @{ $seen->{hops} }, 1, "$path: no login");
    is($seen->{body}, 'the application', "$path: the application");
}
is(browse(jar => 'a', path => '/app/page', fetch => 1)->{status}, 401, 'without the certificate not');
--- no_error_log
[alert]

=== TEST 17: a browser that goes away during a login: the code is not spent twice, and the worker lives
--- run
my $url = begun(jar => 'a');
as_control('/hang', { ms => 800, path => '/token' });
my $cookies = cookies('a');
my ($path) = $url =~ m{^https://api\.test(/.*)};
my ($status) = command('', Keybound::_curl_words(cert => 'client', path => $path, headers => ["Cookie: $cookies"]), '--max-time', '0.3');
is($status, 28, 'gone');
pause(1.2);
as_control('/hang', { ms => 0 });
is(granted_by_as('authorization_code') >= 1, 1, 'it was asked for');
returns('again', '400 login_state_reused', $url, jar => 'a');
logs_in('a login', 'a');
--- no_error_log
[alert]
exited on signal

=== TEST 18: 401 of keybound and of the upstream: an error_page for people without a session keeps the cookies
--- engine
kb: web
--- tls
error_page 401 @people;
location @people { keybound off; $PROXY; }
--- run
logs_in('a login', 'a');
stolen('a', 'thief');
my $response = visit(stolen => 'thief', cert => 'thief');
is($response->{status}, 401, 'refused');
is(says($response), 'removed', 'the cookie is taken back all the same');
--- no_error_log
[error]
