# Refresh of the tokens of sessions: when, by whom, once over all workers, and what happens when the authorization server is down or says no.
use Keybound;
use Logins;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => "lua_shared_dict other 1m;\n" . ($block->http_config // ''));
    $block->set_value(tls => "        add_header X-Worker \$pid always;\n" . ($block->tls // ''));
});

# What is issued from now on lives so long.
sub lives { as_control('/ttl', { AccessToken => $_[0] }) }
# logs_in(NAME, JAR, %how): a session; the time at which its token was issued
sub logs_in {
    my ($name, $jar, %how) = @_;
    my $got = sees($name, $FLOW, jar => $jar, user => 'alice', %how);
    known('a token', bearer($got));
    return claims(bearer($got))->{iat};
}
sub refreshes { return granted_by_as('refresh_token') }
sub forget { as_control('/log/clear'); log_mark() }
sub different { my (%seen, $n); return join ' ', map { $seen{$_ // 'none'} //= ++$n } @_ }
sub workers_of { my %pids = map { scalar header($_, 'X-Worker') => 1 } @_; return scalar keys %pids }
sub counted { my %count; $count{ $_->{status} // 'none' }++ for @_; return json(\%count) }

run_tests();

__DATA__

=== TEST 1: rfc6749_6: refreshed before its end, over mutual TLS, as the client that the token was issued to; each refresh token once
--- engine
kb = logins {}
at("selfsigned", { client_id = "web-self-signed", client_auth = "self_signed_tls_client_auth", tls_client_auth_cert_id = "web-self-signed",
    client_certificates = { ["web-self-signed"] = certificate "web-self-signed" }, session_cookie_name = "__Host-other" })
at("store", { session_storage = "store", session_cookie_name = "__Host-store" })
--- run
as_control('/redirect', { client_id => 'web-self-signed', redirect_uris => ['https://api.test/at/selfsigned/callback'] });
lives(9);
my %of = (kb => ['/', 'web'], selfsigned => ['/at/selfsigned', 'web-self-signed'], store => ['/at/store', 'web']);
my @names = sort keys %of;
my (%first, %second, %cookie, $last);
for my $name (@names) {
    $last = logs_in("$name: a login", $name, path => $of{$name}[0]);
    $first{$name} = bearer(visit(jar => $name, path => $of{$name}[0]));
    $cookie{$name} = cookies($name);
}
forget();
is(bearer(visit(jar => $_, path => $of{$_}[0])), $first{$_}, "$_: the same token while it is young") for @names;
is(refreshes(), 0, 'nobody asks for another');
for my $round (1, 2) {
    until_s($last + 6.2);
    forget();
    $last = 0;
    for my $name (@names) {
        my $response = visit(jar => $name, path => $of{$name}[0]);
        is(outcome($response), '200', "$name: round $round");
        $second{$name} = bearer($response);
        isnt($second{$name}, $first{$name}, "$name: another token");
        is(claims($second{$name})->{sub}, 'alice', "$name: for the same user");
        is(claims($second{$name})->{cnf}{'x5t#S256'}, thumbprint($of{$name}[1]), "$name: bound to the gateway");
        is(scalar header($response, 'Set-Cookie') =~ /^__Host-\w+=[^;]+; Path=\/; Secure; HttpOnly; SameSite=Lax$/ ? 'cookie' : 'none', 'cookie', "$name: and the session's cookie");
        is(cookies($name) eq $cookie{$name}, $name eq 'store', "$name: which is another one, but not where it is only an id");
        is(bearer(visit(jar => $name, path => $of{$name}[0])), $second{$name}, "$name: which is good for the next request");
        ($first{$name}, $cookie{$name}) = ($second{$name}, cookies($name));
        $last = claims($second{$name})->{iat} if claims($second{$name})->{iat} > $last;
    }
    is(shown('/token'), join("\n", map { "refresh_token client_id=$of{$_}[1] certificate=$of{$_}[1] port=mtls 200" } @names), "round $round: once each, seen by the server");
}
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 2: twenty requests at once over two workers: one refresh, and all pass; while the token lives with the old one, after its end with the new one
--- engine
kb = logins {}
--- run
lives(9);
my $issued = logs_in('a login', 'a');
my $first = bearer(visit(jar => 'a'));
until_s($issued + 6.1);
forget();
as_control('/hang', { ms => 700, path => '/token' });
my @responses = crowd(20, jar => 'a');
is(counted(@responses), '{"200":20}', 'all pass');
is(refreshes(), 1, 'by one refresh');
is(workers_of(@responses), 2, 'by both workers');
is(join(' ', events()), '', 'nothing is refused');
my @tokens = map { bearer($_) } @responses;
like(different($first, @tokens), qr/^1( [12])+$/, 'with the old token or the new one');
my @new = grep { header($_, 'Set-Cookie') } @responses;
ok(@new >= 1, 'who has the new one gets a cookie: ' . @new);
is(scalar(grep { bearer($_) ne $first } @responses), scalar @new, 'and nobody else');

as_control('/hang', { ms => 0 });
lives(3);
$issued = logs_in('another login', 'b');
$first = bearer(visit(jar => 'b'));
until_s($issued + 3.1);
forget();
as_control('/hang', { ms => 900, path => '/token' });
my $begun = Time::HiRes::time();
@responses = crowd(20, jar => 'b');
my $took = Time::HiRes::time() - $begun;
as_control('/hang', { ms => 0 });
is(counted(@responses), '{"200":20}', 'over: all pass');
is(refreshes(), 1, 'over: by one refresh');
is(workers_of(@responses), 2, 'over: by both workers');
@tokens = map { bearer($_) } @responses;
is(different(@tokens), join(' ', (1) x 20), 'over: all with the same one');
isnt($tokens[0], $first, 'over: the new one');
cmp_ok($took, '<', 6, "over: nobody waits longer: $took s");
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 3: the cookie from before a refresh is good for a while, without another refresh: pages were under way; a thief neither refreshes nor ends
--- engine
kb = logins {}
at("store", { session_storage = "store", session_cookie_name = "__Host-store" })
--- run
lives(6);
my %path = (cookie => '/', store => '/at/store');
my @names = sort keys %path;
my ($issued, %first, %second, %old);
for (@names) {
    $issued = logs_in("$_: a login", $_, path => $path{$_});
    $first{$_} = bearer(visit(jar => $_, path => $path{$_}));
    $old{$_} = cookies($_);
}
until_s($issued + 4.2);
forget();
for my $name (@names) {
    for my $cert ('thief', '-') {
        log_mark();
        my $response = visit(stolen => $name, cert => $cert, path => $path{$name});
        is(outcome($response), '401 | 401 session_certificate_' . ($cert eq '-' ? 'missing' : 'mismatch'), "$name: a thief, certificate $cert");
        is(scalar(grep { !/Expires=Thu, 01 Jan 1970/ } header($response, 'Set-Cookie')), 0, "$name: the thief gets no session");
    }
}
is(refreshes(), 0, 'and a thief refreshes nothing');
for my $name (@names) {
    $second{$name} = bearer(visit(jar => $name, path => $path{$name}));
    isnt($second{$name}, $first{$name}, "$name: refreshed for its owner");
}
# The token of before is over by now.
until_s($issued + 6.2);
for my $name (@names) {
    log_mark();
    my $response = visit(path => $path{$name}, headers => ["Cookie: $old{$name}"]);
    is(outcome($response), '200', "$name: the old cookie");
    is(bearer($response), $second{$name}, "$name: gives what the new one does");
    is(outcome(visit(jar => $name, path => $path{$name})), '200', "$name: the new one is good, too");
}
is(refreshes(), 2, 'and nobody asked again');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: rfc9700_4_14_2: a refresh token that comes twice ends all that came of it: two gateways that share no store
--- engine
kb = logins {}
at("second", {}, { store = "other" })
--- run
lives(3);
my $issued = logs_in('a login', 'a');
jar('stolen', jar('a'));
until_s($issued + 3.1);
forget();
is(outcome(visit(jar => 'a')), '200', 'one refreshes');
# After the first one, which knows nothing of it.
my $response = visit(jar => 'stolen', path => '/at/second');
is(outcome($response), '401 | 401 session_refused', 'the other asks, and the server says no');
is(join("\n", header($response, 'Set-Cookie')), '__Host-session=; Path=/; Secure; HttpOnly; SameSite=Lax; Expires=Thu, 01 Jan 1970 00:00:00 GMT', 'its cookie is removed');
is(shown('/token'), join("\n", 'refresh_token client_id=web certificate=web port=mtls 200', 'refresh_token client_id=web certificate=web port=mtls 400'), 'seen by the server');
is(cookies('stolen'), '', 'nothing is left of the session');
until_s($issued + 6.2);
log_mark();
my $page = visit(jar => 'a', page => 1);
is(outcome($page), '302 | 302 login_started', 'and with the first one it is over, too');
like(log_since(), qr/reason=login_started.*detail=session_refused/, 'the log says why');
lives(600);
logs_in('a new login is all it takes', 'a');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 5: the token endpoint is down: a session goes on while its token lives, then 503 and not 401; it recovers by itself
--- engine
kb = logins {}
at("store", { session_storage = "store", session_cookie_name = "__Host-store" })
--- run
lives(9);
my %path = (cookie => '/', store => '/at/store');
my $issued;
$issued = logs_in("$_: a login", $_, path => $path{$_}) for sort keys %path;
my %first = map { $_ => bearer(visit(jar => $_, path => $path{$_})) } keys %path;
my %before = map { $_ => cookies($_) } keys %path;
until_s($issued + 6.2);
as_control('/fail', { status => 503, path => '/token' });
forget();
for my $name (sort keys %path) {
    for (1 .. 3) {
        my $response = visit(jar => $name, path => $path{$name});
        is(outcome($response), '200', "$name: it goes on");
        is(bearer($response), $first{$name}, "$name: with the old token");
    }
}
is(refreshes(), 2, 'and the server is not asked by each request');
until_s($issued + 9.2);
for my $name (sort keys %path) {
    log_mark();
    my $begun = Time::HiRes::time();
    my $response = visit(jar => $name, path => $path{$name});
    is(outcome($response), '503 | 503 server_unavailable', "$name: over: 503");
    cmp_ok(Time::HiRes::time() - $begun, '<', 1, "$name: over: and nobody waits for it");
    is($response->{body}, '{"message":"Service Unavailable"}', "$name: over: for a program");
    is(join('', header($response, 'WWW-Authenticate'), header($response, 'Set-Cookie')), '', "$name: over: no challenge, and the cookie stays");
    log_mark();
    $response = visit(jar => $name, path => $path{$name}, page => 1);
    is(outcome($response), '503 | 503 server_unavailable', "$name: over: no login that would fail, too");
    like($response->{body}, qr{<h1>Not available now</h1>}, "$name: over: a page for a person");
    is(cookies($name), $before{$name}, "$name: the cookie is what it was");
}
as_control('/fail', { status => 0 });
# A server that failed is left alone for five seconds.
until_s(Time::HiRes::time() + 5.5);
log_mark();
for my $name (sort keys %path) {
    my $response = visit(jar => $name, path => $path{$name});
    is(outcome($response), '200', "$name: it recovers");
    isnt(bearer($response), $first{$name}, "$name: with a new token");
}
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 6: who is logged out at the authorization server is so at the gateway, as soon as the token is refreshed
--- engine
kb = logins {}
--- run
lives(6);
my $issued = logs_in('alice', 'a');
logs_in('the same on another device', 'b');
like(browse(jar => 'a', url => as_start()->{issuer} . '/session/end')->{body}, qr/You are logged out/, 'logged out there');
log_mark();
is(outcome(visit(jar => 'a')), '200', 'the token lives on');
until_s($issued + 6.2);
is(outcome(visit(jar => 'a')), '401 | 401 session_refused', 'and is not refreshed');
log_mark();
is(outcome(visit(jar => 'b')), '200', 'that of the other device is');
log_mark();
is(outcome(visit(jar => 'a')), '401 | 401 no_token', 'nothing is left of it');
log_mark();
is(browse(jar => 'a', cert => 'client')->{body} =~ /name="password"/ ? 'form' : 'no form', 'form', 'a new login is by password');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 7: OpenID Connect Core 12.2: an ID token that comes with a refresh is for the same user, or the session is over
--- engine
kb = logins {}
--- run
lives(9);
my %change = ('the same user' => undef, 'another user' => { sub => 'bob' }, 'another client' => { aud => 'client' });
my @names = sort keys %change;
my ($issued, %first);
for (@names) {
    $issued = logs_in("$_: a login", $_);
    $first{$_} = bearer(visit(jar => $_));
}
until_s($issued + 6.2);
for my $name (@names) {
    as_control('/tamper', $change{$name} ? { path => '/token', id_token => { set => $change{$name} } } : {});
    log_mark();
    my $response = visit(jar => $name);
    is(outcome($response), $change{$name} ? '401 | 401 session_refused' : '200', "$name: the session");
    isnt(bearer($response) // '', $first{$name}, "$name: what the upstream sees");
    is(cookies($name) eq '', !!$change{$name}, "$name: whether its cookie is removed");
}
as_control('/tamper', {});
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 8: refresh_tokens = false: a session ends with its token, and the user logs in again without noticing; refresh_margin
--- engine
kb = logins { refresh_tokens = false }
at("early", { refresh_margin = 3600 })
at("never", { refresh_margin = 0 })
--- run
lives(9);
my %issued = map { $_ => logs_in("$_: a login", $_, path => "/at/$_") } qw(kb early never);
until_s($issued{never} + 6.2);
forget();
is(outcome(visit(jar => 'kb')), '200', 'it lives');
is(refreshes(), 0, 'and is not refreshed');
is(outcome(visit(jar => 'early', path => '/at/early')), '200', 'a margin that is longer than the life');
is(refreshes(), 1, 'is a third of it');
is(outcome(visit(jar => 'never', path => '/at/never')), '200', 'no margin');
is(refreshes(), 1, 'not before its end');
until_s($issued{never} + 9.2);
is(outcome(visit(jar => 'never', path => '/at/never')), '200', 'no margin: then it is');
is(refreshes(), 2, 'then it is refreshed');
my $response = visit(jar => 'kb');
is(outcome($response), '401 | 401 session_expired', 'without refresh it is over');
is(refreshes(), 2, 'and nobody asks');
is(cookies('kb'), '', 'the cookie is removed');
is(scalar @{ sees('a login without a form', $FLOW, jar => 'kb')->{hops} }, 4, 'the user is still known there');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 9: the authorization server is gone: sessions go on, new logins get 503 with a page, and JSON for programs
--- engine
kb = logins { redirect_uri = "https://api.test/callback" }
at("fresh", { session_cookie_name = "__Host-fresh" })
--- run
lives(600);
my $issued = logs_in('a login', 'a');
my $under_way = begun(jar => 'b');
as_stop('as');
# A server that answered is taken to be there for ten seconds.
until_s(Time::HiRes::time() + 10.5);
log_mark();
is(outcome(visit(jar => 'a')), '200', 'a session goes on');
log_mark();
for my $path ('/', '/at/fresh') {
    my $got = sees("$path: a new login", '503 metadata_unavailable', path => $path, jar => 'c');
    like($got->{body}, qr{<h1>Not available now</h1><p>The login cannot be checked at the moment}, "$path: a page");
    is(scalar @{ jar('c') }, 0, "$path: and no cookie");
    log_mark();
    my $response = visit(path => $path);
    is(outcome($response), '401 | 401 no_token', "$path: a program is not sent to log in, and gets 401 as ever");
}
log_mark();
my $got = browse(jar => 'b', cert => 'client', url => $under_way, no_follow => 1);
is(join(' ', $got->{status}, events()), '503 503 server_unavailable', 'a login that comes back: nobody can redeem its code');
like($got->{body}, qr{<h1>Not available now</h1>}, 'with a page');
log_mark();
is(outcome(visit(jar => 'a')), '200', 'the session still goes on');
--- timeout: 60
--- no_error_log
[alert]
