# Logins by authorization code, from the browser to the upstream: what each of browser, authorization server, upstream and log gets to see.
use Keybound;
use Test::Nginx::Socket 'no_plan';
use Logins;

# A real upstream, which shows the request as it came and sets cookies of its own.
my $API = <<'EOC';
server {
    listen $UPSTREAM;
    location / { content_by_lua_block { ngx.header["Set-Cookie"] = { "app=1; Path=/", "other=2; Path=/" } ngx.print(ngx.req.raw_header()) } }
}
EOC
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(servers => $API) if ($block->tls // '') =~ /\$UPSTREAM/;
});

# who(PATH): who asked the authorization server there: port, client and certificate of each request
sub who {
    my ($path) = @_;
    return map { join ' ', $_->{port}, $_->{client_id} // '-', $_->{certificate} ? $_->{certificate}{'x5t#S256'} : '-' } asked($path);
}

# form(PATH): the names of the parameters of the one request for that path, sorted
sub form { return join ' ', map { sort @{ $_->{body_parameters} } } asked($_[0]) }

# logs_in(CLIENT, CERTIFICATE, PORT): a login, a request, a logout; and who said who it is at each endpoint
sub logs_in {
    my ($client, $certificate, $port) = @_;
    as_control('/log/clear');
    my $got = sees("$client: a login", $FLOW, jar => 'a', path => '/hello?x=1&y=%2Fz', user => 'alice');
    is($got->{url}, 'https://api.test/hello?x=1&y=%2Fz', "$client: back where it began");
    is(seen($got)->{sub}, 'alice', "$client: it is alice");
    my $who = "$port $client " . ($certificate eq '-' ? '-' : thumbprint($certificate));
    is(join(', ', who('/token')), $who, "$client: who asks for tokens");
    is((asked('/token'))[0]{grant_type}, 'authorization_code', "$client: by the code");
    works($client, 'a');
    as_control('/log/clear');
    sees("$client: logged out", '302 logged_out', jar => 'a', path => '/logout', from => 'https://api.test/', method => 'POST', no_follow => 1);
    is(join(', ', who('/token/revocation')), "$who, $who", "$client: who revokes both tokens");
    is(join(', ', map { $_->{token_type_hint} } asked('/token/revocation')), 'refresh_token, access_token', "$client: the refresh token first");
    sees("$client: it is over", '401 no_token', jar => 'a', fetch => 1);
    return $got;
}

run_tests();

__DATA__

=== TEST 1: 8705-2.1, 6749-4.1, 7636-4.3: tls_client_auth: certificate and client_id at each endpoint for mutual TLS, and at no other
--- engine
kb = logins { logout_uri_suffix = "/logout" }
--- run
my $got = logs_in('web', 'web', 'mtls');
my ($start) = @{ $got->{hops} };
my ($authorize) = $start->{location} =~ /^([^?]*)/;
my $sent = query($start->{location});
is($authorize, as_start()->{issuer} . '/auth', 'the authorization endpoint');
is(join(' ', sort keys %$sent), 'client_id code_challenge code_challenge_method nonce redirect_uri response_type scope state', 'its parameters');
is(json({ map { ($_ => $sent->{$_}) } qw(client_id code_challenge_method redirect_uri response_type scope) }), json({ client_id => 'web', code_challenge_method => 'S256',
    redirect_uri => 'https://api.test/callback', response_type => 'code', scope => 'openid read' }), 'and their values');
like($sent->{$_}, qr/^[\w-]{43}$/, "$_ has 256 bits") for qw(state nonce code_challenge);
my $again = sees('another', '302 login_started', jar => 'b', no_follow => 1);
isnt(query($again->{headers}{location})->{$_}, $sent->{$_}, "$_ is another each time") for qw(state nonce code_challenge);
as_control('/log/clear');
sees('one more', $FLOW, jar => 'c', user => 'bob');
is(form('/token'), 'client_id code code_verifier grant_type redirect_uri', 'the token request');
is((asked('/token'))[0]{headers}{authorization}, undef, 'and no secret with it');
is(join(' ', map { $_->{certificate} ? $_->{path} : () } grep { $_->{path} ne '/token' } @{ as_log() }), '', 'elsewhere no certificate is shown');
--- no_error_log
[error]
[alert]

=== TEST 2: 8705-2.2: self_signed_tls_client_auth
--- engine
kb = logins { logout_uri_suffix = "/logout", client_id = "web-self-signed", client_auth = "self_signed_tls_client_auth", tls_client_auth_cert_id = "own",
    client_certificates = { own = certificate "web-self-signed" } }
--- run
my $got = logs_in('web-self-signed', 'web-self-signed', 'mtls');
is(seen($got)->{thumbprint}{'x5t#S256'}, thumbprint('web-self-signed'), 'the token is bound to it');
--- no_error_log
[error]
[alert]

=== TEST 3: a twin without mutual TLS: by a secret, and at the other port no certificate
--- engine
kb = logins { logout_uri_suffix = "/logout", client_id = "web-secret", client_auth = "client_secret_basic", client_secret = "web-secret-secret",
    tls_client_auth_cert_id = cjson.null, client_certificates = cjson.null }
--- run
my $got = logs_in('web-secret', '-', 'main');
is(seen($got)->{thumbprint}, undef, 'the token is bound to nothing');
sees('but the session is to the certificate', $FLOW, jar => 'a', user => 'alice');
stolen('a', 'thief');
sees('of another', '401 session_certificate_mismatch', jar => 'thief', cert => 'thief', fetch => 1);
sees('without one', '401 session_certificate_missing', jar => 'a', cert => '-', fetch => 1);
works('its own', 'a');
--- no_error_log
[error]
[alert]

=== TEST 4: 8705-2: the wrong certificate: the authorization server refuses the gateway, and nobody is logged in
--- engine
kb = logins { tls_client_auth_cert_id = "other", client_certificates = { other = certificate "web-par" } }
--- run
my $got = sees('no login', '302 login_started, 503 client_refused', jar => 'a', user => 'alice');
like($got->{body}, qr{<h1>Not available now</h1>}, 'a page says so');
sees('for programs, too', '401 no_token', jar => 'a', fetch => 1);
is(cookie('a'), undef, 'no session');
--- no_error_log
[alert]

=== TEST 5: 9126-2, 9126-5: pushed requests by the option: only a reference goes through the browser, and who pushes is known by the certificate
--- engine
kb = logins { require_pushed_authorization_requests = true }
--- run
as_control('/log/clear');
my $got = sees('a login', $FLOW, jar => 'a', user => 'alice', path => '/hello?x=1');
is($got->{url}, 'https://api.test/hello?x=1', 'back where it began');
my $sent = query($got->{hops}[0]{location});
is(join(' ', sort keys %$sent), 'client_id request_uri', 'what the browser brings');
like($sent->{request_uri}, qr/^urn:ietf:params:oauth:request_uri:./, 'a reference');
is(join(', ', who('/request')), 'mtls web ' . thumbprint('web'), 'who pushed');
is(form('/request'), 'client_id code_challenge code_challenge_method nonce redirect_uri response_type scope state', 'what was pushed');
is(join(', ', who('/token')), 'mtls web ' . thumbprint('web'), 'who asked for tokens');
works('pushed', 'a');
--- no_error_log
[error]
[alert]

=== TEST 6: 9126-5: a client that has to push and does not: the authorization server refuses the login
--- engine
kb = logins { client_id = "web-par", tls_client_auth_cert_id = "web-par", client_certificates = { ["web-par"] = certificate "web-par" } }
--- run
as_control('/log/clear');
sees('not required: the client may not log in without', '302 login_started, 403 login_refused', jar => 'x', user => 'alice');
is(scalar asked('/request'), 0, 'nothing was pushed');
as_control('/metadata', { set => { require_pushed_authorization_requests => JSON::PP::true } });
--- no_error_log
[alert]

=== TEST 7: 9126-5: pushed requests because the metadata requires them; twin: the option says no
--- engine
local par = { client_id = "web-par", tls_client_auth_cert_id = "web-par", client_certificates = { ["web-par"] = certificate "web-par" } }
local function with(more) for name, value in pairs(par) do more[name] = value end return more end
kb = logins(with {})
off = logins(with { require_pushed_authorization_requests = false })
--- run
as_control('/log/clear');
sees('required', $FLOW, jar => 'a', user => 'alice');
is(join(', ', who('/request')), 'mtls web-par ' . thumbprint('web-par'), 'who pushed');
as_control('/log/clear');
sees('off', '302 login_started', jar => 'b', path => '/at/off', no_follow => 1);
is(scalar asked('/request'), 0, 'nothing was pushed');
as_control('/metadata');
--- no_error_log
[alert]

=== TEST 8: only who navigates is sent to log in; nobody else loses a request by it
--- run
my @navigation = ('Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document', 'Accept: text/html');
for (
    [ '302 login_started', 'a navigation', headers => \@navigation ],
    [ '302 login_started', 'a browser that says nothing of modes', headers => [ 'Accept: application/xml, text/html;q=0.9' ] ],
    [ '401 no_token', 'a form', headers => \@navigation, method => 'POST', data => 'x=1' ],
    [ '401 no_token', 'a PUT', headers => \@navigation, method => 'PUT', data => 'x=1' ],
    [ '401 no_token', 'HEAD', headers => \@navigation, method => 'HEAD' ],
    [ '401 no_token', 'OPTIONS', headers => \@navigation, method => 'OPTIONS' ],
    [ '401 no_token', 'a program', headers => [ 'Accept: */*' ] ],
    [ '401 no_token', 'a program that says nothing at all' ],
    [ '401 no_token', 'JSON', headers => [ 'Accept: application/json' ] ],
    [ '401 no_token', 'fetch()', headers => [ 'Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty', 'Accept: text/html' ] ],
    [ '401 no_token', 'a frame', headers => [ 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe', 'Accept: text/html' ] ],
    [ '401 no_token', 'an image', headers => [ 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image', 'Accept: text/html' ] ],
    [ '401 no_token', 'a WebSocket', headers => [ 'Sec-Fetch-Mode: websocket', 'Sec-Fetch-Dest: websocket', 'Upgrade: websocket', 'Connection: Upgrade' ] ],
) {
    my ($expected, $name, %call) = @$_;
    for my $h2 (0, 1) {
        next if $h2 && $name =~ /WebSocket/;
        log_mark();
        my $response = call(cert => 'client', h2 => $h2, %call);
        is(join(' ', $response->{status}, log_since() =~ /keybound: \w+, reason=(\w+)/g), $expected, $name . ($h2 ? ', HTTP/2' : ''));
        my @cookies = header($response, 'Set-Cookie');
        is(scalar @cookies, $expected =~ /^302/ ? 1 : 0, "$name: cookies");
        is(header($response, 'WWW-Authenticate'), $expected =~ /^302/ ? '' : 'Bearer', "$name: the challenge");
        like(header($response, 'Content-Type'), $call{headers} && $call{headers}[0] =~ /navigate/ && $name ne 'a frame' || $expected =~ /^302/ ? qr{^text/html} : qr{^application/json}, "$name: for whom");
        is($response->{body}, '', "$name: no body") if ($call{method} // '') eq 'HEAD';
        is($response->{body}, '{"message":"Unauthorized"}', "$name: JSON") if header($response, 'Content-Type') =~ /json/;
    }
}
--- no_error_log
[error]
[alert]

=== TEST 9: a HEAD of who is logged in passes, and so does a form, with its body
--- run
sees('a login', $FLOW, jar => 'a', user => 'alice');
sees('HEAD', '200', jar => 'a', method => 'HEAD');
my $got = sees('a form', '200', jar => 'a', from => 'https://api.test/', method => 'POST', data => 'x=1&y=2');
is(join(' ', @{ seen($got) }{qw(method body)}), 'POST x=1&y=2', 'it came whole');
--- no_error_log
[error]
[alert]

=== TEST 10: an aborted login: a page for a person, JSON for a program; neither says why but to the log
--- run
my $got = sees('aborted', '302 login_started, 403 login_refused', jar => 'a', abort => 1);
is(join(', ', @{ $got->{details} }), ', the authorization server said access_denied', 'the log says what the server said');
like($got->{body}, qr{^<!doctype html>\n.*<h1>No login</h1>}, 'a page');
is(join(' ', grep { /^__Host/ } map { $_->{name} } @{ jar('a') }), '', 'nothing is left of it');
my $url = begun(jar => 'b');
my $error = $url =~ s/code=[^&]*/error=access_denied/r;
$got = sees('a program', '403 login_refused', jar => 'b', url => $error, fetch => 1);
is($got->{body}, '{"message":"Forbidden"}', 'JSON');
sees('the next one', $FLOW, jar => 'a', user => 'alice');
--- no_error_log
[error]
[alert]

=== TEST 11: display_errors: the page tells the reason
--- engine
kb = logins { display_errors = true }
--- run
my $url = begun(jar => 'a') =~ s/code=[^&]*/error=access_denied/r;
like(browse(jar => 'a', cert => 'client', url => $url)->{body}, qr{<p><code>login_refused</code></p>}, 'it is there');
--- no_error_log
[error]
[alert]

=== TEST 12: an error of the server's is none of the user's; what it says is copied only as far as it is a code
--- run
for ([ 'temporarily_unavailable', '503 server_unavailable', 'the authorization server said temporarily_unavailable' ], [ 'server_error', '503 server_unavailable', 'the authorization server said server_error' ],
    [ 'login_required', '403 login_refused', 'the authorization server said login_required' ], [ '%22%3Cscript%3Ealert(1)%3C/script%3E', '403 login_refused', 'the authorization server said unknown' ],
    [ '', '403 login_refused', 'the authorization server said unknown' ], [ 'a' x 200, '403 login_refused', 'the authorization server said ' . 'a' x 64 ]) {
    my ($error, $expected, $detail) = @$_;
    my $url = begun(jar => 'a') =~ s/code=[^&]*/error=$error&error_description=%3Cb%3Ex/r;
    my $got = returns($error, $expected, $url, jar => 'a');
    is(join(', ', @{ $got->{details} }), $detail, 'the log');
    unlike($got->{body}, qr/script|<b>|aaaa/, 'the page has none of it');
}
--- no_error_log
[error]
[alert]

=== TEST 13: HTTP/2, with each cookie in a header of its own (9113-8.2.3)
--- run
my @accept = ('Accept: text/html', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document');
my $start = call(cert => 'client', h2 => 1, path => '/two?x=2', headers => \@accept);
is($start->{status}, 302, 'sent to log in');
my ($login) = header($start, 'Set-Cookie') =~ /^([^;]+)/;
known('a cookie', $login);
my $back = begun(jar => 'as', url => scalar header($start, 'Location'));
my ($path) = $back =~ m{^https://api\.test(/.*)};
my $end = call(cert => 'client', h2 => 1, path => $path, headers => [ @accept, 'Cookie: app=1', "Cookie: $login" ]);
is("$end->{status} " . header($end, 'Location'), '302 https://api.test/two?x=2', 'and back');
my ($gone, $session) = map { /^([^;]+)/ } header($end, 'Set-Cookie');
known('a cookie', $session);
is($gone, $login =~ s/=.*/=/r, 'the cookie of the login is gone');
my $got = call(cert => 'client', h2 => 1, path => '/two?x=2', headers => [ 'Cookie: app=1', "Cookie: $session", 'Cookie: b=2' ]);
is(join(' ', $got->{status}, @{ seen($got) }{qw(sub cookie)}), '200 alice app=1; b=2', 'the session');
--- no_error_log
[error]
[alert]

=== TEST 14: two tabs: each login comes back to its own page, in any order; where their cookies become too many, the oldest are forgotten
--- run
my $one = begun(jar => 'a', path => '/one');
my $two = begun(jar => 'a', path => '/two');
is(returns('the second', '302 login_completed', $two, jar => 'a')->{headers}{location}, 'https://api.test/two', 'back to its page');
is(returns('the first', '302 login_completed', $one, jar => 'a')->{headers}{location}, 'https://api.test/one', 'back to its page');
works('both', 'a');
# Seven at once
my @urls = map { begun(jar => 'b', path => "/$_") } 1 .. 7;
is(returns("login $_", '302 login_completed', $urls[$_ - 1], jar => 'b')->{headers}{location}, "https://api.test/$_", 'back to its page') for 1 .. 7;
# Long ones: no more than fit beside other cookies into what a server takes
@urls = map { begun(jar => 'c', path => "/$_?" . 'x' x 900) } 1 .. 3;
cmp_ok(length cookies('c'), '<', 4096, 'so much comes with each request');
returns('login 1', '400 login_state_missing', $urls[0], jar => 'c');
returns("login $_", '302 login_completed', $urls[$_ - 1], jar => 'c') for 2, 3;
works('all', $_) for qw(b c);
--- no_error_log
[error]
[alert]
--- timeout: 30

=== TEST 15: the upstream behind proxy_pass sees the token and cookies but ours, the browser gets its cookies beside the gateway's
--- tls
        location / { access_by_lua_block { kb:access() } proxy_pass http://$UPSTREAM; }
--- engine
kb = logins { session_idling_timeout = 4 }
--- run
my $login = sees('a login', $FLOW, jar => 'a', user => 'alice', path => '/up');
my ($token) = $login->{body} =~ /^authorization: Bearer (\S+)\r$/mi;
known('a token', $token);
my @parts = map { json(MIME::Base64::decode_base64url($_)) } (split /\./, $token)[1];
is(join(' ', @{ $parts[0] }{qw(iss sub aud client_id)}, $parts[0]{cnf}{'x5t#S256'}), join(' ', as_start()->{issuer}, qw(alice https://api.test web), thumbprint('web')), 'the token of the login');
is(join(' ', map { $_->{name} } grep { $_->{domain} eq 'api.test' } @{ jar('a') }), '__Host-session app other', 'all cookies are there');
my $session = cookie('a');
select undef, undef, undef, 1.2;
my $got = sees('touched', '200', jar => 'a', path => '/up', headers => [ 'Authorization: Bearer of-somebody-else' ]);
is(join('|', map { /^([^=]+)/ } @{ $got->{headers}{'set-cookie'} }), '__Host-session|app|other', 'each is set, the session\'s anew');
isnt(cookie('a'), $session, 'it is another one');
is(join('|', $got->{body} =~ /^(cookie: .*)\r$/mig), 'cookie: app=1; other=2', 'upstream: ours is not there');
is(join('|', $got->{body} =~ /^(authorization: .*)\r$/mig), "authorization: Bearer $token", 'upstream: and only the token of the session');
unlike($got->{body}, qr/__Host-session/, 'nowhere');
--- no_error_log
[error]
[alert]

=== TEST 16: hide_credentials: the upstream sees no token; not one that the client sent either
--- engine
kb = logins { hide_credentials = true }
--- run
my $got = sees('a login', $FLOW, jar => 'a', user => 'alice');
is(join(' ', map { seen($got)->{$_} // '-' } qw(sub authorization cookie)), 'alice - -', 'the upstream');
$got = sees('with one', '200', jar => 'a', headers => [ 'Authorization: Bearer x' ]);
is(join(' ', map { seen($got)->{$_} // '-' } qw(sub authorization cookie)), 'alice - -', 'the upstream');
--- no_error_log
[error]
[alert]

=== TEST 17: without a certificate nobody is sent to log in, where the session would be bound to one; twin: optional
--- engine
kb = logins {}
at("optional", { proof_of_possession_mtls = "optional" })
--- run
as_control('/log/clear');
my $got = sees('none', '401 session_certificate_missing', jar => 'a', cert => '-');
like($got->{body}, qr{<h1>Certificate required</h1>}, 'a page says what is needed');
is(scalar @{ as_log() }, 0, 'the authorization server is not asked');
sees('optional', $FLOW, jar => 'b', cert => '-', path => '/at/optional', user => 'alice');
sees('with one', $FLOW, jar => 'a', user => 'alice');
my $url = begun(jar => 'c');
returns('the certificate is gone when the login comes back', '401 session_certificate_missing', $url, jar => 'c', cert => '-');
is(cookie('c'), undef, 'no session');
--- no_error_log
[error]
[alert]

=== TEST 18: logins are of the host of the redirect URI; on another one there is none to be sent to
--- tls
        server_name a.test;
--- run
sees('elsewhere', '401 no_token', jar => 'a', host => 'a.test');
sees('here', $FLOW, jar => 'a', user => 'alice');
sees('the session is not elsewhere', '401 no_token', jar => 'a', host => 'a.test');
my $url = begun(jar => 'b') =~ s{api\.test/}{a.test/}r;
sees('the callback of another host is a path like others', '401 no_token', jar => 'b', host => 'a.test', url => $url, no_follow => 1);
--- no_error_log
[error]
[alert]

=== TEST 19: the authorization server is down: a page, JSON for programs; and it is back
--- run
as_control('/fail', { status => 500, path => '/.well-known' });
like(sees('no metadata', '503 metadata_unavailable', jar => 'a')->{body}, qr{<h1>Not available now</h1>}, 'a page');
as_control('/fail', { status => 0 });
# The metadata is not asked for again for a while.
select undef, undef, undef, 5.1;
my $url = begun(jar => 'b');
as_control('/fail', { status => 500, path => '/token' });
returns('no token', '503 server_unavailable', $url, jar => 'b');
as_control('/fail', { status => 0 });
sees('it is back', $FLOW, jar => 'b', user => 'alice');
--- no_error_log
[alert]

=== TEST 20: 6265-4.1: what the cookies are: of this host alone, for TLS, for no script, and not for what other sites send
--- run
my $got = sees('a login', $FLOW, jar => 'a', user => 'alice');
my @cookies = map { @{ $_->{set_cookie} } } grep { $_->{url} =~ m{^https://api\.test/} } @{ $got->{hops} };
like($cookies[0], qr{^__Host-session_login_[\w-]{16}=1\.[\w-]+; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600$}, 'that of the login');
like($cookies[1], qr{^__Host-session_login_[\w-]{16}=; Path=/; Secure; HttpOnly; SameSite=Lax; Expires=Thu, 01 Jan 1970 00:00:00 GMT$}, 'it is taken back');
like($cookies[2], qr{^__Host-session=1\.[\w-]+; Path=/; Secure; HttpOnly; SameSite=Lax$}, 'that of the session');
is(scalar @cookies, 3, 'and no more');
is(index(join('', @cookies), query($got->{hops}[0]{location})->{state}), -1, 'no state in the open');
--- no_error_log
[error]
[alert]
