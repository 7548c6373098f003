# Attacks on a session: its cookie changed, moved, stolen, planted, and requests that other sites make with it. After each the session of who
# it belongs to is as good as before.
use Keybound;
use Test::Nginx::Socket 'no_plan';
use Logins;

our $N = '__Host-session';

# counted(LIST): how often each comes, as JSON
sub counted { my %n; $n{$_}++ for @_; return json(\%n) }

# logged(): the reasons of all refusals since the last mark, each once
sub logged { my %seen = map { $_ => 1 } log_since() =~ /keybound: refused, reason=(\w+)/g; return join ' ', sort keys %seen }

# api(NAME, EXPECTED, COOKIES, %call): a program's request with this Cookie header, or with several; `check` compares all of the answer
sub api {
    my ($name, $expected, $cookies, %call) = @_;
    my $over = delete $call{over};
    log_mark();
    my $response = call(cert => 'client', headers => [ (map { "Cookie: $_" } ref $cookies ? @$cookies : $cookies), @{ delete $call{more} // [] } ], %call);
    # What is only no session is no wrong token: the challenge says nothing.
    $expected =~ s/^401 (?=session_certificate_)/401 invalid_token / || $expected =~ s/^401 (?=\w+$)/401 - /;
    check($response, $expected, $name);
    # Who comes with another certificate loses the cookie, and whose session is over (`over`): of what is unknown nobody knows whose it is.
    my $is_taken = $over || $expected =~ /session_certificate_mismatch/;
    is(scalar header($response, 'Set-Cookie'), $is_taken ? "$N=; Path=/; Secure; HttpOnly; SameSite=Lax; Expires=Thu, 01 Jan 1970 00:00:00 GMT" : '',
        $is_taken ? "$name: the cookie is taken" : "$name: no cookie is set, none is taken") if $expected =~ /^401/;
    return $response;
}

# logged_in(JAR, %how): a session, and its Cookie header
sub logged_in {
    my ($jar, %how) = @_;
    sees("$jar is logged in", $FLOW, jar => $jar, user => 'alice', %how);
    return cookies($jar);
}

# large(JAR): a session whose cookie comes in parts: their names and values
sub large {
    my ($jar, $size) = @_;
    my $url = begun(jar => $jar);
    tampered({ id_token => { set => { groups => [ map { "group-number-$_" } 1 .. $size ] } } }, sub { returns("$jar is logged in", '302 login_completed', $url, jar => $jar) });
    return parts($jar);
}
sub header_of { return join '; ', map { "$_->[0]=$_->[1]" } @_ }

# joined(JAR, OTHER): the cookies of both in the first
sub joined { my ($jar, $other) = @_; jar($jar, [ @{ jar($jar) }, @{ jar($other) } ]) }

# cookie_of(HEADER): the value of its one cookie
sub cookie_of { return $_[0] =~ s/^[^=]*=//r }

run_tests();

__DATA__

=== TEST 1: a cookie that is changed in any place, or cut off at any
--- run
my $good = cookie_of(logged_in('a'));
my $last = length($good) - 1;
my @other = map { my $text = $good; substr $text, $_, 1, substr($good, $_, 1) eq 'A' ? 'B' : 'A'; "$N=$text" } 0 .. $last;
# In the last character some bits may stand for nothing: they must be as they were written.
push @other, map { "$N=" . substr($good, 0, $last) . $_ } grep { $_ ne substr $good, $last } 'A' .. 'Z', 'a' .. 'z', 0 .. 9, '-', '_';
log_mark();
is(counted(statuses(\@other, cert => 'client')), json({ 401 => scalar @other }), 'changed');
is(logged(), 'session_invalid', 'the log');
log_mark();
is(counted(statuses([ map { "$N=" . substr $good, 0, $_ } 0 .. $last ], cert => 'client')), json({ 401 => $last + 1 }), 'cut off');
is(logged(), 'session_invalid', 'the log');
log_mark();
is(counted(statuses([ map { "$N=$_" } "$good=", "$good==", "${good}A", "${good}AAAA", " $good ", "\"$good\"", "$good,", "$good%20", lc $good, uc $good, $good =~ tr{_-}{/+}r ], cert => 'client')), '{"401":11}', 'written in other ways');
api('changed in its answer', '401 session_invalid', "$N=${good}A");
is(counted(statuses([ ("$N=$good") x 20 ], cert => 'client')), '{"200":20}', 'the twin');
works('after all that', 'a');
--- no_error_log
[error]
[alert]
--- timeout: 60

=== TEST 2: a large session in parts: none may be missing, changed, exchanged, or of another session
--- run
my @a = large('a', 250);
my @b = large('b', 250);
cmp_ok(scalar @a, '>=', 3, 'parts: ' . @a);
is(scalar @b, scalar @a, 'as many in the other');
is(join(' ', map { $_->[0] } @a), join(' ', $N, map { "${N}_$_" } 2 .. @a), 'their names');
cmp_ok(length("$_->[0]=$_->[1]"), '<=', 4096, "$_->[0]: not too long") for @a;
api('whole', '200', header_of(@a));
api('in another order', '200', header_of(reverse @a));
api('in headers of their own', '200', [ map { header_of($_) } @a ]);
for my $i (0 .. $#a) {
    my $name = $a[$i][0];
    my $with = sub { my @new = map { [@$_] } @a; $new[$i][1] = $_[0]; return header_of(@new) };
    my @bad = (
        [ 'missing', header_of(@a[grep { $_ != $i } 0 .. $#a]) ], [ 'of the other session', $with->($b[$i][1]) ], [ 'empty', $with->('') ], [ 'one short', $with->(substr $a[$i][1], 0, -1) ],
        [ 'one long', $with->("$a[$i][1]A") ], [ 'twice', header_of(@a, [ $name, $b[$i][1] ]) ], [ 'twice, the other first', header_of([ $name, $b[$i][1] ], @a) ],
    );
    push @bad, [ 'in place of the next', $with->($a[$i + 1][1]) ] if $i < $#a;
    push @bad, [ 'exchanged with the next', header_of(map { [ $a[$_][0], $a[$_ == $i ? $i + 1 : $_ == $i + 1 ? $i : $_][1] ] } 0 .. $#a) ] if $i > 0 && $i < $#a;
    api("$name: $_->[0]", '401 session_invalid', $_->[1]) for @bad;
    api("$name: twice the same", '200', header_of(@a, $a[$i]));
}
my $count = @a;
for my $other (0 .. 9, 'x', '') {
    next if $other eq $count;
    api("its number of parts is '$other'", '401 session_invalid', header_of([ $N, $a[0][1] =~ s/^\d/$other/r ], @a[1 .. $#a]));
}
# Left from a larger one where two answers crossed: what is there besides is not read.
api('a part more', '200', header_of(@a, [ "${N}_4", 'AAAA' ])) if $count < 4;
api('no session, and a part', '401 session_invalid', "${N}_2=AAAA");
api('no session, and a fifth part', '401 no_token', "${N}_5=AAAA");
works($_, $_) for qw(a b);
# The next one is small, and the parts are taken back.
my $url = begun(jar => 'new');
joined('a', 'new');
returns('a small one', '302 login_completed', $url, jar => 'a');
is(scalar(() = parts('a')), 1, 'one part');
works('small', 'a');
--- no_error_log
[error]
[alert]
--- timeout: 60

=== TEST 3: what does not fit into cookies: nobody is logged in, and the log says what to do; twin: the store
--- engine
kb = logins {}
at("store", { session_storage = "store" })
--- run
my $url = begun(jar => 'a');
my $change = { id_token => { set => { groups => [ map { "group-number-$_" } 1 .. 450 ] } } };
tampered($change, sub {
    my $got = returns('cookie', '500 internal_error', $url, jar => 'a');
    is(join(', ', @{ $got->{details} }), 'the tokens are too large for cookies: set session_storage to store', 'the log');
});
is(cookie('a'), undef, 'no session');
$url = begun(jar => 'b', path => '/at/store/');
tampered($change, sub { returns('store', '302 login_completed', $url, jar => 'b') });
works('store', 'b', path => '/at/store/');
cmp_ok(length cookie('b'), '<', 60, 'its cookie is an id');
--- no_error_log
[alert]

=== TEST 4: a session is of one host, however that is written
--- servers
    server { listen $TLS ssl http2; server_name a.test; ssl_certificate $PKI/server.crt; ssl_certificate_key $PKI/server.key; ssl_verify_client optional_no_ca;
        location / { access_by_lua_block { kb:access() } content_by_lua_block { ngx.say("passed") } } }
--- run
my $cookies = logged_in('a');
api('at another server', '401 session_invalid', $cookies, host => 'a.test');
# By its address, where no name is told before Host is
my @by_address = (host => '127.0.0.1');
api("Host: $_", '200', $cookies, @by_address, more => [ "Host: $_" ]) for 'api.test', 'API.test', 'api.test:443';
api("Host: $_", '401 session_invalid', $cookies, @by_address, more => [ "Host: $_" ]) for 'a.test', 'api.test.', 'api.test:8443', 'api.test.evil.test', 'www.api.test', 'evil.test', '127.0.0.1';
works('its own', 'a');
--- no_error_log
[error]
[alert]

=== TEST 5: session_previous_secrets: what an earlier secret sealed is taken while it is there, and sealed anew; and no longer
--- engine
local function secret(n) return ("%s-secret-of-32-characters-or-more"):format(n) end
kb = logins { session_secret = secret "old" }
at("next", { session_secret = secret "new", session_previous_secrets = { secret "older", secret "old" } })
at("last", { session_secret = secret "new" })
--- run
my $old = logged_in('a');
api('without the old secret', '401 session_invalid', $old, path => '/at/last/');
my $got = sees('with it', '200', jar => 'a', path => '/at/next/', fetch => 1);
is(scalar @{ $got->{headers}{'set-cookie'} // [] }, 1, 'it is set anew');
my $new = cookies('a');
isnt($new, $old, 'it is another one');
ok(!@{ sees('again', '200', jar => 'a', path => '/at/next/', fetch => 1)->{headers}{'set-cookie'} // [] }, 'once');
api('the new one without the old secret', '200', $new, path => '/at/last/');
api('the new one where only the old secret is', '401 session_invalid', $new);
api('the old one without the old secret, still', '401 session_invalid', $old, path => '/at/last/');
api('a thief gets none anew', '401 session_certificate_mismatch', $old, path => '/at/next/', cert => 'thief');
# A login that was under way
my $url = begun(jar => 'b');
returns('a login from before, without the old secret', '400 login_state_invalid', $url =~ s{/callback}{/at/last/callback}r, jar => 'b');
returns('with it: it is opened, and the server says that it is of another redirect URI', '400 code_refused', $url =~ s{/callback}{/at/next/callback}r, jar => 'b');
works('the new one', 'a', path => '/at/next/');
--- no_error_log
[error]
[alert]

=== TEST 6: another instance: sessions are shared by those that are told to, and by no others
--- engine
kb = logins {}
at("same", {})
at("client", { client_id = "web-self-signed", client_auth = "self_signed_tls_client_auth", tls_client_auth_cert_id = "own", client_certificates = { own = certificate "web-self-signed" } })
at("audience", { session_audience = "team" })
at("team", { session_audience = "team", client_id = "web-self-signed", client_auth = "self_signed_tls_client_auth", tls_client_auth_cert_id = "own", client_certificates = { own = certificate "web-self-signed" } })
at("secret", { session_secret = "another-secret-of-sessions-012345" })
at("named", { session_cookie_name = "__Host-other" })
at("store", { session_storage = "store" })
at("scope", { scopes_required = { "write" } })
--- run
my $cookies = logged_in('a');
my ($value) = $cookies =~ /=(.*)/;
api('configured alike', '200', $cookies, path => '/at/same/');
api('another client', '401 session_invalid', $cookies, path => '/at/client/');
api('another audience', '401 session_invalid', $cookies, path => '/at/audience/');
api('another secret', '401 session_invalid', $cookies, path => '/at/secret/');
api('another name: it is not looked at', '401 no_token', $cookies, path => '/at/named/');
api('under that name', '401 session_invalid', "__Host-other=$value", path => '/at/named/');
api('kept in the store', '401 session_invalid', $cookies, path => '/at/store/');
api('one that asks for more', '403 insufficient_scope insufficient_scope', $cookies, path => '/at/scope/');
my $team = logged_in('b', path => '/at/audience/');
api('the same audience', '200', $team, path => '/at/team/');
api('not that of others', '401 session_invalid', $team);
my $stored = logged_in('c', path => '/at/store/');
api('an id where cookies hold the session', '401 session_invalid', $stored);
api('an id that there is not', '401 session_expired', "$N=1." . 'A' x 43, path => '/at/store/');
api('the id', '200', $stored, path => '/at/store/');
works('the first', 'a');
--- no_error_log
[error]
[alert]

=== TEST 7: 8705-1, seed: a stolen cookie without the certificate, over each kind of connection; and its owner
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
add_header X-Reused $ssl_session_reused always;
--- run
my $cookies = logged_in('a');
for my $h2 (0, 1) {
    api("HTTP/@{[ 1 + $h2 ]}: $_->[0]", $_->[1], $cookies, cert => $_->[0], h2 => $h2) for [ '-', '401 session_certificate_missing' ], [ 'thief', '401 session_certificate_mismatch' ],
        [ 'same-name', '401 session_certificate_mismatch' ], [ 'rsa', '401 session_certificate_mismatch' ], [ 'client', '200' ];
}
for my $tls ('1.2', '1.3') {
    for my $cert ('-', 'thief', 'client') {
        my $expected = $cert eq 'client' ? '200' : '401 invalid_token session_certificate_' . ($cert eq '-' ? 'missing' : 'mismatch');
        log_mark();
        check(scalar s_client(cert => $cert, tls => $tls, headers => [ "Cookie: $cookies" ]), $expected, "TLS $tls: $cert");
        # Resumed: the certificate is that of the handshake, whatever is at hand now.
        for my $now ('-', 'client', 'thief') {
            unlink "$RUN/session";
            s_client(cert => $cert, tls => $tls, save => "$RUN/session");
            log_mark();
            my $resumed = s_client(cert => $now, tls => $tls, resume => "$RUN/session", headers => [ "Cookie: $cookies" ]);
            is(scalar header($resumed, 'X-Reused'), 'r', "TLS $tls: $cert resumed with $now");
            check($resumed, $expected, "TLS $tls: $cert resumed with $now, the answer");
        }
    }
}
my @one = calls_on_one_connection(map { { cert => 'thief', headers => [ "Cookie: $_" ] } } $cookies, 'a=b', $cookies);
is(join(' ', map { $_->{status} } @one), '401 401 401', 'on one connection');
works('the owner', 'a');
--- no_error_log
[alert]
--- timeout: 60

=== TEST 8: a thief changes nothing: neither logs out, nor has tokens refreshed, nor has the session ended
--- engine
kb = logins { logout_uri_suffix = "/logout", logout_methods = { "POST", "DELETE", "GET" } }
at("store", { logout_uri_suffix = "/logout", session_storage = "store" })
--- run
my %of = ('/' => logged_in('a'), '/at/store/' => logged_in('b', path => '/at/store/'));
as_control('/log/clear');
for my $path (sort keys %of) {
    for my $cert ('-', 'thief') {
        my $why = '401 session_certificate_' . ($cert eq '-' ? 'missing' : 'mismatch');
        api("$path: a request, $cert", $why, $of{$path}, path => $path, cert => $cert);
        api("$path: logout by $_, $cert", $why, $of{$path}, path => "${path}logout", cert => $cert, method => $_) for 'POST', 'DELETE';
        stolen($path eq '/' ? 'a' : 'b', 'evil');
        my $page = sees("$path: a navigation, $cert", $why, jar => 'evil', path => $path, cert => $cert, no_follow => 1);
        like($page->{body}, $cert eq '-' ? qr{<h1>Certificate required} : qr{<h1>Another certificate}, 'a page says what is wrong');
        is(cookies('evil'), $cert eq '-' ? $of{$path} : '', 'with another certificate the cookie is taken');
    }
}
is(join(' ', map { $_->{path} } @{ as_log() }), '', 'the authorization server heard nothing of it');
works('kept in a cookie', 'a');
works('kept in the store', 'b', path => '/at/store/');
api('the twin: the owner logs out', '200', $of{'/at/store/'}, path => '/at/store/logout', method => 'POST');
api('the owner is out', '401 session_expired', $of{'/at/store/'}, path => '/at/store/');
api('the other is not', '200', $of{'/'});
--- no_error_log
[error]
[alert]

=== TEST 9: a thief does not refresh: where the token is due, the certificate comes first
--- engine
kb = logins { refresh_margin = 3600 }
--- run
as_control('/ttl', { AccessToken => 6 });
my $cookies = logged_in('a');
as_control('/log/clear');
select undef, undef, undef, 4.2;
api('a thief', '401 session_certificate_mismatch', $cookies, cert => 'thief');
api('nobody', '401 session_certificate_missing', $cookies, cert => '-');
is(scalar asked('/token'), 0, 'nothing is refreshed');
works('the owner', 'a');
is(join(' ', map { $_->{grant_type} } asked('/token')), 'refresh_token', 'now it is');
isnt(cookies('a'), $cookies, 'the cookie is another one');
as_control('/ttl');
--- no_error_log
[error]
[alert]

=== TEST 10: fixation: a session that is planted is not taken over; a login begins a new one, and ends the old
--- engine
kb = logins {}
at("store", { session_storage = "store" })
--- run
for my $at ('/', '/at/store/') {
    my $evil = logged_in('evil', cert => 'thief', user => 'bob', path => $at);
    stolen('evil', $_) for qw(victim stolen);
    sees("$at: planted", '401 session_certificate_mismatch', jar => 'victim', path => $at);
    is(cookies('victim'), '', "$at: and she is rid of it");
    # It comes back while she logs in.
    my $planted = cookie('evil');
    my $url = begun(jar => 'victim', path => $at);
    joined('victim', 'stolen');
    is(cookie('victim'), $planted, "$at: it is there when the login comes back");
    returns("$at: a login", '302 login_completed', $url, jar => 'victim');
    isnt(cookie('victim'), $planted, "$at: it is another one");
    is(seen(works($at, 'victim', path => $at))->{sub}, 'alice', "$at: she is alice");
    works("$at: the attacker", 'evil', cert => 'thief', path => $at);
    api("$at: the attacker does not get into hers", '401 session_certificate_mismatch', cookies('victim'), cert => 'thief', path => $at);
    # An id of one's own choice
    my $chosen = 'B' x 42 . 'A';
    $url = begun(jar => 'tab', path => $at);
    jar_of('fresh', $N, "1.$chosen");
    joined('fresh', 'tab');
    returns("$at: a login over an id that was chosen", '302 login_completed', $url, jar => 'fresh');
    unlike(cookie('fresh'), qr/$chosen/, "$at: it is not that");
    api("$at: which is none", $at eq '/' ? '401 session_invalid' : '401 session_expired', "$N=1.$chosen", path => $at);
}
--- no_error_log
[error]
[alert]

=== TEST 11: a new login of the same browser has another id, and in the store the old session is over
--- engine
kb = logins { session_storage = "store" }
--- run
my $old = logged_in('a');
my $url = begun(jar => 'tab');
joined('a', 'tab');
like(cookies('a'), qr/^\Q$old\E; /, 'the old one comes with the callback');
returns('again', '302 login_completed', $url, jar => 'a');
isnt(cookies('a'), $old, 'another id');
api('the old one', '401 session_expired', $old);
works('the new one', 'a');
--- no_error_log
[error]
[alert]

=== TEST 12: a session that began without certificate is none where sessions are bound; one that is bound stays so where they need not be
--- engine
kb = logins {}
at("free", { session_bind_certificate = false, proof_of_possession_mtls = "off" })
at("optional", { proof_of_possession_mtls = "optional" })
--- run
my $free = logged_in('a', path => '/at/free/', cert => '-');
api('where none is needed', '200', $free, path => '/at/free/', cert => $_) for '-', 'client', 'thief';
api('where sessions are bound', '401 session_invalid', $free, over => 1, cert => $_) for '-', 'client';
my $bound = logged_in('b');
for my $path ('/at/free/', '/at/optional/') {
    api("$path: bound, none", '401 session_certificate_missing', $bound, path => $path, cert => '-');
    api("$path: bound, another", '401 session_certificate_mismatch', $bound, path => $path, cert => 'thief');
    api("$path: bound, its own", '200', $bound, path => $path);
}
my $optional = logged_in('c', path => '/at/optional/');
api('begun with one where it is optional: it is needed from then on', '401 session_certificate_missing', $optional, path => '/at/optional/', cert => '-');
works($_->[0], $_->[0], path => $_->[1]) for [ 'a', '/at/free/' ], [ 'b', '/' ], [ 'c', '/at/optional/' ];
--- no_error_log
[error]
[alert]

=== TEST 13: a cookie twice: which is ours is not to be told, and none is taken
--- run
my $a = cookie_of(logged_in('a'));
my $b = cookie_of(logged_in('b'));
for ([ 'two sessions', "$N=$a; $N=$b" ], [ 'the other first', "$N=$b; $N=$a" ], [ 'an empty one before', "$N=; $N=$a" ], [ 'one behind', "$N=$a; $N=1.AAAA" ], [ 'with others between', "x=1; $N=$a; y=2; $N=$b; z=3" ],
    [ 'white space before the =', "$N=$a; $N =$b" ], [ 'in two headers', [ "$N=$a", "$N=$b" ] ], [ 'a tab', "$N=$a;\t$N=$b" ], [ 'no space', "$N=$b;$N=$a" ]) {
    api($_->[0], '401 session_invalid', $_->[1]);
    api("HTTP/2: $_->[0]", '401 session_invalid', $_->[1], h2 => 1);
}
api($_->[0], '200', $_->[1]) for [ 'twice the same', "$N=$a; $N=$a" ], [ 'beside others', "x=1; $N=$a; y" ], [ 'another case', "$N=$a; __host-session=$b" ], [ 'a longer name', "$N=$a; ${N}x=$b" ],
    [ 'in a value', "x=$N=$b; $N=$a" ], [ 'without a name', "=$N=$b; $N=$a" ];
works($_, $_) for qw(a b);
--- no_error_log
[error]
[alert]

=== TEST 14: logout CSRF: forms and links of other sites do not log out; those of the site do
--- engine
kb = logins { logout_uri_suffix = "/logout", session_cookie_same_site = "None", logout_methods = { "POST", "GET" } }
--- run
my $cookies = logged_in('a');
as_control('/log/clear');
for my $from ('https://evil.test/', 'https://www.api.test/', 'http://api.test/') {
    my $got = sees("$from: a form", '403 logout_cross_site', jar => 'a', path => '/logout', from => $from, method => 'POST', data => '', no_follow => 1);
    is(join(' ', @{ $got->{hops}[0]{sent_cookies} }), $N, "$from: with the cookie");
    like($got->{body}, qr{<h1>Not logged out</h1>}, "$from: a page");
    is($got->{headers}{'set-cookie'}, undef, "$from: no cookie is taken");
    sees("$from: a link", '403 logout_cross_site', jar => 'a', path => '/logout', from => $from, no_follow => 1);
    sees("$from: fetch()", '403 logout_cross_site', jar => 'a', path => '/logout', from => $from, fetch => 1, method => 'POST');
}
# Browsers that say nothing of sites: by Origin, which comes with forms.
for ([ 'https://evil.test', 403 ], [ 'null', 403 ], [ 'https://api.test.evil.test', 403 ], [ 'http://api.test', 403 ], [ 'https://api.test:444', 403 ], [ 'https://www.api.test', 403 ]) {
    my ($origin, $status) = @$_;
    log_mark();
    is(join(' ', call(cert => 'client', path => '/logout', method => 'POST', headers => [ "Cookie: $cookies", "Origin: $origin" ])->{status}, log_since() =~ /reason=(\w+)/), "$status logout_cross_site", "Origin: $origin");
}
for ('cross-site', 'same-site', 'other', 'same-origin, cross-site') {
    log_mark();
    is(join(' ', call(cert => 'client', path => '/logout', method => 'POST', headers => [ "Cookie: $cookies", "Sec-Fetch-Site: $_", 'Origin: https://api.test' ])->{status}, log_since() =~ /reason=(\w+)/),
        '403 logout_cross_site', "Sec-Fetch-Site: $_");
}
is(join(' ', map { $_->{path} } @{ as_log() }), '', 'nothing was revoked');
works('after all that', 'a');
sees('a form of the site', '302 logged_out', jar => 'a', path => '/logout', from => 'https://api.test/', method => 'POST', data => '', no_follow => 1);
is(cookie('a'), undef, 'the cookie is taken');
for ([ 'own Origin', 'Origin: https://api.test' ], [ 'own Origin, other case', 'Origin: https://API.test' ], [ 'neither', 'X: y' ], [ 'Sec-Fetch-Site', 'Sec-Fetch-Site: same-origin' ], [ 'typed', 'Sec-Fetch-Site: none' ]) {
    my ($name, $header) = @$_;
    log_mark();
    my $response = call(cert => 'client', path => '/logout', method => 'POST', headers => [ "Cookie: $cookies", $header ]);
    is(join(' ', $response->{status}, log_since() =~ /answered, reason=(\w+)/), '200 logged_out', "$name: out");
}
--- no_error_log
[error]
[alert]

=== TEST 15: a link logs out only where it may; with other methods, and elsewhere, the path is one like others
--- engine
kb = logins { logout_uri_suffix = "/logout" }
at("get", { logout_uri_suffix = "/logout", logout_methods = { "GET" } })
--- run
logged_in('a');
for ([ 'a link', method => 'GET' ], [ 'HEAD', method => 'HEAD' ], [ 'PUT', method => 'PUT', data => 'x' ], [ 'another path', method => 'POST', data => 'x', path => '/logout/x' ], [ 'a path of more', method => 'POST', data => 'x', path => '/logoutx' ],
    [ 'in the query', method => 'POST', data => 'x', path => '/x?/logout' ], [ 'in other letters', method => 'POST', data => 'x', path => '/LOGOUT' ], [ 'with a slash', method => 'POST', data => 'x', path => '/logout/' ]) {
    my ($name, %how) = @$_;
    sees($name, '200', jar => 'a', path => '/logout', from => 'https://api.test/', %how);
}
works('after all that', 'a');
# The request that a page of another site makes in the background: an image
log_mark();
is(call(cert => 'client', path => '/at/get/logout', headers => [ 'Cookie: ' . cookies('a'), 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image' ])->{status}, 403, 'an image');
sees('by POST where only GET does', '200', jar => 'a', path => '/at/get/logout', from => 'https://api.test/', method => 'POST', data => '');
sees('a link of another site', '403 logout_cross_site', jar => 'a', path => '/at/get/logout', from => 'https://evil.test/', no_follow => 1);
works('still', 'a');
sees('a link of the site', '302 logged_out', jar => 'a', path => '/at/get/logout', from => 'https://api.test/', no_follow => 1);
is(cookie('a'), undef, 'out');
logged_in('a');
sees('DELETE', '302 logged_out', jar => 'a', path => '/x/logout', from => 'https://api.test/', method => 'DELETE', no_follow => 1);
sees('out', '401 no_token', jar => 'a', fetch => 1);
--- no_error_log
[error]
[alert]

=== TEST 16: a copy of the cookie from before the logout: where the store has the session it is over at once, else when it would be written anew
--- engine
kb = logins { logout_uri_suffix = "/logout", session_storage = "store" }
at("cookie", { logout_uri_suffix = "/logout", session_idling_timeout = 8 })
--- run
my @logout = (from => 'https://api.test/', method => 'POST', no_follow => 1);
my $cookies = logged_in('a');
api('the copy', '200', $cookies);
sees('out', '302 logged_out', jar => 'a', path => '/logout', @logout);
api('the copy afterwards', '401 session_expired', $cookies, cert => $_) for 'client', 'thief', '-';
my ($copy, $other) = map { logged_in($_, path => '/at/cookie/') } qw(b c);
sees('out', '302 logged_out', jar => 'b', path => '/at/cookie/logout', @logout);
api('a copy is still good', '200', $copy, path => '/at/cookie/');
select undef, undef, undef, 3.1;
api('and no longer', '401 session_expired', $copy, over => 1, path => '/at/cookie/');
api('the twin: of who is not out', '200', $other, path => '/at/cookie/');
--- no_error_log
[error]
[alert]

=== TEST 17: a token beside the cookie: the session comes first; one that is broken is none, one of another certificate is refused
--- run
my $cookies = logged_in('a');
define(own => { as => 'any', cert => 'client' }, theirs => { as => 'any', cert => 'thief' });
my $sub = sub { my ($response) = @_; return json($response->{body})->{sub} };
is($sub->(api('a good session and a token', '200', $cookies, token => 'own')), 'alice', 'of the session');
is($sub->(api('a broken session and a token', '200', "$N=1.AAAA", token => 'own')), 'any', 'of the token');
is($sub->(api('a good session and a token of another', '200', $cookies, token => 'theirs')), 'alice', 'of the session');
api('a broken session and a token of another', '401 invalid_token certificate_mismatch', "$N=1.AAAA", token => 'theirs');
api('a session of another and an own token', '401 session_certificate_mismatch', $cookies, token => 'theirs', cert => 'thief');
works('a', 'a');
--- no_error_log
[error]
[alert]

=== TEST 18: a thief who logs in himself, with the stolen cookie beside his login, does not end the session of its owner
--- engine
kb = logins { session_storage = "store" }
--- run
my $cookies = logged_in('a');
my $url = begun(jar => 'tab', cert => 'thief', user => 'bob');
stolen('a', 'evil');
joined('evil', 'tab');
returns('a thief', '302 login_completed', $url, jar => 'evil', cert => 'thief');
is(seen(works('his own', 'evil', cert => 'thief'))->{sub}, 'bob', 'he is bob');
works('the owner', 'a');
--- no_error_log
[error]
[alert]

=== TEST 19: 6265-8.6: a cookie that another host of the domain has set, where the name does not forbid it: no session, and no going to and fro
--- engine
kb = logins { session_cookie_name = "session" }
--- run
my $planted = { name => 'session', value => '1.AAAA', domain => 'api.test', host_only => \0, path => '/', secure => \1, http_only => \0, same_site => 'Lax', expires => undef };
sees('logged in', $FLOW, jar => 'a', user => 'alice');
my $own = jar('a');
jar('a', [ @$own, $planted ]);
my $got = sees('planted beside her own', '401 session_invalid', jar => 'a', user => 'alice');
is(join(', ', @{ $got->{details} }), 'its cookie came twice: another host of the domain may have set one', 'the log says so');
jar('b', [ $planted ]);
sees('planted before the login', '302 login_started, 302 login_completed, 401 session_invalid', jar => 'b', user => 'alice');
jar('b', [ grep { !$_->{host_only} ? 0 : 1 } @{ jar('b') } ]);
sees('it is gone', '200', jar => 'b');
jar('a', $own);
sees('it is gone there, too', '200', jar => 'a');
--- no_error_log
[error]
[alert]
