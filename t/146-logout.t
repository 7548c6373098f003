# Logouts: the session ends, its tokens are revoked at the authorization server (RFC 7009), and the user's login there ends (OpenID Connect RP-Initiated
# Logout 1.0). What of it fails is logged and counted, and does not keep anybody logged in.
use Keybound;
use Logins;
use Test::Nginx::Socket 'no_plan';

# `engine` may use `opaque(OPTIONS)`: options of logins whose access tokens are opaque, which the server can revoke.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOL' . ($block->engine // ''));
SELF_SIGNED = { client_id = "web-self-signed", client_auth = "self_signed_tls_client_auth", tls_client_auth_cert_id = "web-self-signed",
    client_certificates = { ["web-self-signed"] = { certificate = "$PKI/web-self-signed.crt", private_key = "$PKI/web-self-signed.key" } } }
OPTS = { store = "logins", metrics = "metrics" }
function opaque(more)
    local config = { auth_methods = { "session", "authorization_code", "introspection" }, authorization_query_args_names = { "resource" },
        authorization_query_args_values = { "https://api.test/opaque" }, introspection_cache_ttl = 0, logout_uri_suffix = "/logout",
        logout_redirect_uri = "https://api.test/logged-out" }
    for name, value in pairs(more or {}) do
        config[name] = value
    end
    return config
end
EOL
    $block->set_value(http_config => "lua_shared_dict metrics 1m;\n" . ($block->http_config // ''));
    $block->set_value(tls => "location = /logged-out { return 200 'bye'; }\n" . ($block->tls // ''));
    $block->set_value(config => 'location = /metrics { content_by_lua_block { require("resty.keybound").metrics("metrics") } }');
});

# logs_in(NAME, JAR, %how): a session; its access token
sub logs_in {
    my ($name, $jar, %how) = @_;
    my $got = sees($name, $FLOW, jar => $jar, user => 'alice', %how);
    known('a token', bearer($got));
    return bearer($got);
}
# As a program, and as the browser from a page of the gateway
sub log_out { my (%how) = @_; log_mark(); return visit(method => 'POST', path => '/logout', %how) }
sub leaves { my (%how) = @_; log_mark(); return browse(cert => 'client', method => 'POST', data => '', path => '/logout', from => 'https://api.test/', %how) }
sub is_active { return as_request('/token/introspection', { token => $_[0] }, client => 'gateway', cert => 'gateway')->{active} ? 'active' : 'inactive' }
sub details { return join '; ', map { /reason=logged_out.*?, detail=(.*?), client: / ? $1 : () } split /\n/, log_since() }
sub revoked { my ($client) = @_; return join "\n", map { "${_}_token client_id=$client certificate=$client port=mtls 200" } qw(refresh access) }
sub pause { select undef, undef, undef, $_[0] }

run_tests();

__DATA__

=== TEST 1: rfc7009_2: a logout revokes the refresh token, then the access token, over mutual TLS and as the client; both are dead there
--- engine
kb = logins(opaque(), OPTS)
local selfsigned = opaque { session_cookie_name = "__Host-other" }
for name, value in pairs(SELF_SIGNED) do
    selfsigned[name] = value
end
at("selfsigned", selfsigned, OPTS)
at("store", opaque { session_storage = "store", session_cookie_name = "__Host-store" }, OPTS)
--- run
as_control('/redirect', { client_id => 'web-self-signed', redirect_uris => ['https://api.test/at/selfsigned/callback'] });
my %client = (kb => 'web', selfsigned => 'web-self-signed', store => 'web');
my $done = metric('keybound_revocations_total\{result="done"');
for my $name (sort keys %client) {
    my $path = $name eq 'kb' ? '' : "/at/$name";
    my $token = logs_in("$name: a login", $name, path => "$path/x");
    unlike($token, qr/\./, "$name: an opaque token");
    is(is_active($token), 'active', "$name: the server knows it");
    jar('copy', jar($name));
    as_control('/log/clear');
    my $response = log_out(jar => $name, path => "$path/logout");
    is(outcome($response), '200 | 200 logged_out', "$name: logged out");
    is(details(), '', "$name: nothing failed");
    is(shown('/token/revocation'), revoked($client{$name}), "$name: what the server saw");
    is(cookies($name), '', "$name: the cookie is removed");
    is(is_active($token), 'inactive', "$name: the access token is dead");
    # A copy of the cookie does not help, wherever the session was.
    log_mark();
    is(outcome(visit(stolen => 'copy', path => "$path/x")), '401 | 401 ' . ($name eq 'store' ? 'session_expired' : 'token_inactive'), "$name: a copy of the cookie");
}
pause(1.2);
is(metric('keybound_revocations_total\{result="done"') - $done, 6, 'counted');
is(metric('keybound_revocations_total\{result="failed"'), 0, 'none failed');
is(metric('keybound_requests_total\{[^}]*decision="redirect",reason="logged_out"'), 3, 'and so are the logouts');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 2: the refresh token is dead, too: a copy of the cookie cannot be refreshed
--- engine
kb = logins(opaque(), OPTS)
--- run
as_control('/ttl', { AccessToken => 6 });
logs_in('a login', 'a');
logs_in('another one, which goes on', 'b');
my $begun = Time::HiRes::time();
jar('copy', jar('a'));
# In a cookie the session itself is not written anew yet, and what the store knows of its end is for those that are.
is(outcome(log_out(jar => 'a')), '200 | 200 logged_out', 'logged out');
until_s($begun + 4.2);
as_control('/log/clear');
log_mark();
is(outcome(visit(jar => 'copy')), '401 | 401 session_expired', 'a copy, when it would be refreshed');
is(granted_by_as('refresh_token'), 0, 'nobody even asks');
is(outcome(visit(jar => 'b', path => '/x')) =~ s/ \|.*//r, '200', 'the other session is refreshed');
is(shown('/token'), 'refresh_token client_id=web certificate=web port=mtls 200', 'seen by the server');
as_control('/ttl', {});
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 3: openid-connect-rpinitiated-1_0: a browser goes on to the authorization server, is logged out there, too, and comes back
--- engine
kb = logins(opaque(), OPTS)
at("own", { logout_uri_suffix = "/logout", logout_redirect_uri = "https://api.test/logged-out", end_session_endpoint = "https://as.test/leave?theme=dark" })
at("nowhere", { logout_uri_suffix = "/logout" })
--- run
my $as = as_start()->{issuer};
logs_in('a login', 'a');
is(scalar(grep { $_->{domain} eq 'localhost' } @{ jar('a') }) ? 'known' : 'unknown', 'known', 'to the server, too');
as_control('/log/clear');
my $got = leaves(jar => 'a');
is(join(' ', map { "$_->{method} $_->{status}" } @{ $got->{hops} }), 'POST 302 GET 200 POST 303 GET 200', 'there and back');
is("$got->{url} $got->{body}", 'https://api.test/logged-out bye', 'to where the configuration says');
is(join(' ', events()), '302 logged_out', 'the log');
my $location = $got->{hops}[0]{location};
like($location, qr{^\Q$as\E/session/end\?id_token_hint=eyJ[\w.-]+&client_id=web&post_logout_redirect_uri=https%3A%2F%2Fapi\.test%2Flogged-out$}, 'what it is asked');
is(shown('/token/revocation'), revoked('web'), 'and the tokens are revoked');
is(cookies('a'), '', 'no cookie is left');
log_mark();
like(browse(jar => 'a', cert => 'client')->{body}, qr/name="password"/, 'the next login is by password');
is(join(' ', events()), '302 login_started', 'and not without one');

# Where the server does not say, where it is said here, and where nothing is.
logs_in('a login', 'b', path => '/at/own');
$got = leaves(jar => 'b', path => '/at/own/logout', no_follow => 1);
like($got->{headers}{location}, qr{^https://as\.test/leave\?theme=dark&id_token_hint=eyJ[\w.-]+&client_id=web&post_logout_redirect_uri=https%3A%2F%2Fapi\.test%2Flogged-out$}, 'end_session_endpoint');
logs_in('a login', 'c', path => '/at/nowhere');
$got = leaves(jar => 'c', path => '/at/nowhere/logout');
like($got->{body}, qr/You are logged out/, 'without logout_redirect_uri: the page of the server');
is($got->{url} =~ s/\?.*//r, "$as/session/end/success", 'which is there');
# Nobody was logged in.
for my $name (qw(own nowhere)) {
    $got = leaves(jar => 'new', path => "/at/$name/logout");
    is(join(' ', events()), $name eq 'own' ? '302 logged_out' : '200 logged_out', "$name: nobody was logged in");
    like($got->{body}, $name eq 'own' ? qr/^bye$/ : qr{<h1>Logged out</h1><p>You are logged out\.</p>}, "$name: where that leads");
}
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: a program gets JSON, and where a browser could go on; which requests log out, and which do not
--- engine
kb = logins(opaque(), OPTS)
at("get", { logout_uri_suffix = "/bye", logout_methods = { "GET" } }, OPTS)
at("none", {}, OPTS)
--- run
my $as = as_start()->{issuer};
for my $method (qw(POST DELETE)) {
    logs_in("$method: a login", 'a');
    my $response = log_out(jar => 'a', method => $method, path => '/some/where/logout?x=1');
    is(outcome($response), '200 | 200 logged_out', "$method: logged out");
    my $told = json($response->{body});
    is(join(' ', sort keys %$told), 'logout_uri message', "$method: what it is told");
    is($told->{message}, 'Logged out', "$method: message");
    like($told->{logout_uri}, qr{^\Q$as\E/session/end\?id_token_hint=eyJ}, "$method: logout_uri");
    is(join('|', header($response, 'Content-Type'), header($response, 'Cache-Control'), header($response, 'Location')), 'application/json; charset=utf-8|no-store', "$method: headers");
}
my $token = logs_in('a login', 'a');
for my $call ([ GET => '/logout' ], [ PUT => '/logout' ], [ POST => '/logout/' ], [ POST => '/logouts' ], [ POST => '/x?/logout' ], [ POST => '/LOGOUT' ], [ HEAD => '/logout' ]) {
    my ($method, $path) = @$call;
    log_mark();
    my $response = visit(jar => 'a', method => $method, path => $path);
    is(outcome($response), '200', "$method $path passes");
    is(seen($response)->{method}, $method, "$method $path: to the upstream") if $method ne 'HEAD';
}
is(is_active($token), 'active', 'and ends nothing');
my $response = visit(jar => 'n', path => '/at/none/logout', method => 'POST');
is($response->{status}, 401, 'without logout_uri_suffix it is a request like any other');

logs_in('by GET: a login', 'g', path => '/at/get');
log_mark();
is(outcome(visit(jar => 'g', method => 'POST', path => '/at/get/bye')), '200', 'by GET: not by POST');
log_mark();
is(outcome(visit(jar => 'g', path => '/at/get/bye')), '200 | 200 logged_out', 'by GET: a link');
is(cookies('g'), '', 'by GET: it is over');
# A login does not lead to a logout.
my $got = sees('by GET: a login that begins at the logout leads elsewhere', '200 logged_out', jar => 'h', path => '/at/get/bye');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 5: which tokens are revoked: logout_revoke, logout_revoke_access_token, logout_revoke_refresh_token; where the session has them
--- engine
kb = logins(opaque { logout_revoke = false }, OPTS)
at("access", opaque { logout_revoke_refresh_token = false }, OPTS)
at("refresh", opaque { logout_revoke_access_token = false }, OPTS)
at("bearer", { auth_methods = { "session", "bearer", "authorization_code" }, logout_uri_suffix = "/logout", logout_redirect_uri = "https://api.test/logged-out" }, OPTS)
--- run
my %expected = (kb => '', access => 'access_token client_id=web certificate=web port=mtls 200', refresh => 'refresh_token client_id=web certificate=web port=mtls 200');
for my $name (sort keys %expected) {
    my $path = $name eq 'kb' ? '' : "/at/$name";
    my $token = logs_in("$name: a login", $name, path => "$path/x");
    as_control('/log/clear');
    is(outcome(log_out(jar => $name, path => "$path/logout")), '200 | 200 logged_out', "$name: logged out");
    is(shown('/token/revocation'), $expected{$name}, "$name: what the server saw");
    # Of this server the access token dies with the refresh token's grant.
    is(is_active($token), $name eq 'kb' ? 'active' : 'inactive', "$name: the access token");
}
# The session of a client's own token: the gateway did not get it, and the server does not let it revoke it.
define(own => { as => 'any', cert => 'client' });
known('a token', named_token('own'));
is(visit(jar => 'b', path => '/at/bearer/x', token => 'own')->{status}, 200, 'a session of a token');
as_control('/log/clear');
my $response = log_out(jar => 'b', path => '/at/bearer/logout');
is(outcome($response), '200 | 200 logged_out', 'of a token: logged out');
is(json(json($response->{body})), '{"logout_uri":"https://api.test/logged-out","message":"Logged out"}', 'of a token: nobody logged in at the server');
is(cookies('b'), '', 'of a token: the cookie is removed');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 6: a revocation that fails is logged and counted, and the user is logged out all the same
--- engine
kb = logins(opaque(), OPTS)
at("jwt", { logout_uri_suffix = "/logout" }, OPTS)
at("store", opaque { session_storage = "store", timeout = 500, read_timeout = 500 }, OPTS)
--- run
my %failures = (
    'status 503' => [ '/fail', { status => 503, path => '/token/revocation' } ],
    'status 401' => [ '/fail', { status => 401, path => '/token/revocation' } ],
    'timeout' => [ '/hang', { ms => 2000, path => '/token/revocation' } ],
);
my %end = (fail => { status => 0 }, hang => { ms => 0 });
pause(1.2);
my ($failed, $done) = map { metric('keybound_revocations_total\{result="' . $_) } qw(failed done);
for my $name (sort keys %failures) {
    my ($control, $data) = @{ $failures{$name} };
    for my $path ('', '/at/store') {
        next if $name eq 'timeout' && $path eq '';
        my $token = logs_in("$name: a login", 'a', path => "$path/x");
        jar('copy', jar('a'));
        as_control($control, $data);
        my $response = log_out(jar => 'a', path => "$path/logout");
        is(outcome($response), '200 | 200 logged_out', "$name, $path: logged out");
        like(details(), qr/^the refresh_token could not be revoked: .*; the access_token could not be revoked: [^;]*$/, "$name, $path: the log says so");
        is(cookies('a'), '', "$name, $path: the cookie is removed");
        as_control($control, $end{ substr $control, 1 });
        $failed += 2;
        next if $path eq '';
        log_mark();
        is(outcome(visit(stolen => 'copy', path => "$path/x")), '401 | 401 session_expired', "$name, $path: a copy is of no use, either");
    }
}
# A JWT cannot be revoked at this server: RFC 7009 section 2.2.1.
logs_in('a JWT: a login', 'j', path => '/at/jwt');
is(outcome(log_out(jar => 'j', path => '/at/jwt/logout')), '200 | 200 logged_out', 'a JWT: logged out');
is(details(), 'the access_token could not be revoked: status 400, unsupported_token_type', 'a JWT: the log says so');
$failed++;
$done++;
pause(1.2);
is(metric('keybound_revocations_total\{result="failed"'), $failed, 'counted: failed');
is(metric('keybound_revocations_total\{result="done"'), $done, 'counted: done');
cmp_ok(metric('keybound_as_requests_total\{[^}]*endpoint="revocation",outcome="status"'), '>=', 5, 'and as requests');
cmp_ok(metric('keybound_as_requests_total\{[^}]*endpoint="revocation",outcome="timeout"'), '>=', 1, 'that ran out of time');
--- timeout: 60
--- no_error_log
[alert]

=== TEST 7: sessions in cookies: copies are good until they would be written anew, and no longer
--- engine
kb = logins({ logout_uri_suffix = "/logout", session_idling_timeout = 8 }, OPTS)
--- run
logs_in('a login', 'a');
my $begun = int Time::HiRes::time();
jar('copy', jar('a'));
is(outcome(log_out(jar => 'a')), '200 | 200 logged_out', 'logged out');
until_s($begun + 3.2);
log_mark();
is(outcome(visit(jar => 'copy')), '401 | 401 session_expired', 'a copy, when it would be written anew');
is(cookies('copy'), '', 'and then it is removed');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 8: the authorization server is gone: logged out here, and the browser goes where the configuration says
--- engine
kb = logins(opaque(), OPTS)
--- run
logs_in('a login', 'a');
as_control('/log/clear');
as_stop('as');
my $got = leaves(jar => 'a', no_follow => 1);
is(join(' ', events()), '302 logged_out', 'logged out');
like(details(), qr/^the refresh_token could not be revoked: .*; the access_token could not be revoked: /, 'the log says what failed');
is(cookies('a'), '', 'the cookie is removed');
like($got->{headers}{location}, qr{^https://localhost:\d+/session/end\?id_token_hint=|^https://api\.test/logged-out$}, 'where to go on');
--- timeout: 60
--- no_error_log
[alert]
