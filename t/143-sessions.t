# Sessions: in cookies, in a shared dictionary, and in a Redis that two nginx share; how long they last, what they are bound to, and what of them
# anybody else gets to see.
use Keybound;
use Logins;
use Test::Nginx::Socket 'no_plan';

# `engine` may use `rd(NAME, OPTIONS)`: like `at`, with sessions in Redis.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOL' . ($block->engine // ''));
function rd(name, more)
    more.store_secret = "a secret of all gateways, of 32 characters or more"
    more.session_storage = more.session_storage or "store"
    return { store = { redis = { host = "127.0.0.1", port = $REDIS, connect_timeout = 1000, timeout = 1000 } } }
end
EOL
});

sub logs_in {
    my ($name, $jar, %how) = @_;
    my $got = sees($name, $FLOW, jar => $jar, user => 'alice', %how);
    known('a token', bearer($got));
    return $got;
}
sub copy { my ($from, $to) = @_; jar($to, jar($from)) }
# What one answer says of cookies: set, removed, or nothing
sub says { return join ' ', map { /Expires=Thu, 01 Jan 1970/ ? 'removed' : 'set' } header($_[0], 'Set-Cookie') }

run_tests();

__DATA__

=== TEST 1: what the browser gets: a sealed session, or an id that says nothing; another one with each login
--- engine
kb = logins {}
at("store", { session_storage = "store" })
at("named", { session_cookie_name = "s", session_cookie_same_site = "None" })
--- run
my %name = (kb => '__Host-session', store => '__Host-session', named => 's');
my %seen;
for my $engine (sort keys %name) {
    my $path = $engine eq 'kb' ? '/x' : "/at/$engine/x";
    my $same_site = $engine eq 'named' ? 'None' : 'Lax';
    for my $round (1, 2) {
        jar('a', []);
        my $got = returns("$engine: a login", '302 login_completed', begun(jar => 'a', path => $path), jar => 'a');
        my ($removed, $session, @more) = @{ $got->{headers}{'set-cookie'} };
        like($removed, qr/^\Q$name{$engine}\E_login_[\w-]{16}=; Path=\/; Secure; HttpOnly; SameSite=Lax; Expires=Thu, 01 Jan 1970 00:00:00 GMT$/, "$engine: the login's cookie is removed");
        like($session, qr/^\Q$name{$engine}\E=1\.[\w-]+; Path=\/; Secure; HttpOnly; SameSite=$same_site$/, "$engine: the session's cookie");
        is(scalar @more, 0, "$engine: and no other");
        my ($value) = $session =~ /=1\.([\w-]+)/;
        ok(!$seen{$value}++, "$engine: another one with each login");
        is(length $value, 43, "$engine: an id") if $engine eq 'store';
        my $bytes = MIME::Base64::decode_base64($value =~ tr{-_}{+/}r);
        unlike($bytes, qr/eyJ|alice|access_token|[ -~]{12}/, "$engine: nothing in it can be read");
        my $seen = seen(visit(jar => 'a', path => $path));
        is($seen->{sub}, 'alice', "$engine: whose it is");
        like($seen->{authorization}, qr/^Bearer eyJ/, "$engine: the upstream gets the token");
        is($seen->{cookie}, undef, "$engine: and no cookie");
    }
}
--- no_error_log
[error]
[alert]

=== TEST 2: session_storage = store: a logout, and a login after the first, end all copies of the cookie; and no session without its entry
--- engine
kb = logins { session_storage = "store", logout_uri_suffix = "/logout" }
--- run
logs_in('a login', 'a');
copy('a', 'b');
works('the owner', 'a');
works('a copy', 'b');
is(outcome(visit(jar => 'a', method => 'POST', path => '/logout')), '200 | 200 logged_out', 'logged out');
log_mark();
is(outcome(visit(jar => 'b')), '401 | 401 session_expired', 'the copy is over');
logs_in('a login', 'a');
copy('a', 'b');
my @session = grep { $_->{name} eq '__Host-session' } @{ jar('a') };
my $back = begun(jar => 'a');
jar('a', [ @{ jar('a') }, @session ]);
returns('the same browser logs in a second time', '302 login_completed', $back, jar => 'a');
isnt(cookie('a'), cookie('b'), 'by another id');
works('the second', 'a');
log_mark();
is(outcome(visit(jar => 'b')), '401 | 401 session_expired', 'the first session is over');
copy('a', 'b');
my $id = cookie('b');
for my $case ([ 'an id that was never given', '1.' . ('A' x 43) ], [ 'one bit of it is another', $id =~ s/(.)$/$1 eq 'A' ? 'E' : 'A'/er ]) {
    my ($name, $value) = @$case;
    log_mark();
    is(outcome(visit(headers => ["Cookie: __Host-session=$value"])), '401 | 401 session_expired', $name);
}
for my $case ([ 'too short', '1.' . ('A' x 42) ], [ 'too long', '1.' . ('A' x 44) ], [ 'a session of the other kind', '1.' . ('A' x 400) ], [ 'nothing', '' ], [ 'no number', $id =~ s/^1\.//r ]) {
    my ($name, $value) = @$case;
    log_mark();
    is(outcome(visit(headers => ["Cookie: __Host-session=$value"])), '401 | 401 session_invalid', $name);
}
works('the owner', 'b');
--- no_error_log
[error]
[alert]

=== TEST 3: Redis, two nginx: log in at one, go on at the other; log out at one, and the other refuses
--- engine
kb = logins({ session_storage = "store", logout_uri_suffix = "/logout", store_secret = "a secret of all gateways, of 32 characters or more" },
    { store = { redis = { host = "127.0.0.1", port = $REDIS, connect_timeout = 1000, timeout = 1000 } } })
at("cookie", { store_secret = "a secret of all gateways, of 32 characters or more", logout_uri_suffix = "/logout" },
    { store = { redis = { host = "127.0.0.1", port = $REDIS, connect_timeout = 1000, timeout = 1000 } } })
--- run
redis('FLUSHALL');
second_start();
logs_in('a login at the first', 'a');
my $token = bearer(visit(jar => 'a'));
on_second(sub {
    my $response = visit(jar => 'a');
    is(outcome($response), '200', 'the second goes on');
    is(bearer($response), $token, 'with the same token');
    log_mark();
    is(outcome(visit(stolen => 'a', cert => 'thief')), '401 | 401 session_certificate_mismatch', 'not for a thief');
    log_mark();
    is(outcome(visit(stolen => 'a', cert => '-')), '401 | 401 session_certificate_missing', 'nor without certificate');
    # Not even ended by them.
    log_mark();
    is(outcome(visit(stolen => 'a', cert => 'thief', method => 'POST', path => '/logout')), '401 | 401 session_certificate_mismatch', 'a thief does not log out');
});
copy('a', 'b');
log_mark();
is(outcome(visit(jar => 'a')), '200', 'the first still does');
log_mark();
is(outcome(visit(jar => 'a', method => 'POST', path => '/logout')), '200 | 200 logged_out', 'logged out at the first');
on_second(sub { is(outcome(visit(jar => 'b')), '401 | 401 session_expired', 'the second refuses') });

# A login that begins at one comes back at the other; there it is good once, and so at both.
for my $path ('/', '/at/cookie') {
    my $back = begun(jar => 'c', path => $path);
    copy('c', 'd');
    on_second(sub {
        my $got = sees("$path: a login that began at the first ends at the second", '302 login_completed, 200', jar => 'c', url => $back, from => as_start()->{issuer});
        known('a token', bearer($got));
    });
    returns("$path: and not a second time at the first", '400 login_state_reused', $back, jar => 'd');
    log_mark();
    is(outcome(visit(jar => 'c', path => $path)), '200', "$path: what came of it is good at the first");
}

# Where they share a session in a cookie, they share its refreshes.
as_control('/ttl', { AccessToken => 3 });
my $issued = claims(bearer(logs_in('a short one', 'e', path => '/at/cookie')))->{iat};
copy('e', 'f');
until_s($issued + 3.1);
as_control('/log/clear');
log_mark();
my $first = visit(jar => 'e', path => '/at/cookie');
is(outcome($first), '200', 'the first refreshes');
on_second(sub {
    my $response = visit(jar => 'f', path => '/at/cookie');
    is(outcome($response), '200', 'the second, with the cookie from before');
    is(bearer($response), bearer($first), 'has the same token');
});
is(granted_by_as('refresh_token'), 1, 'by one refresh');
as_control('/ttl', {});
second_stop();

# Another secret of sessions, or of the store: nobody is let in.
logs_in('another login', 'a');
for my $case ([ 'the-secret-of-sessions-0123456789', 'session_invalid' ], [ 'a secret of all gateways, of 32 characters or more', 'session_expired' ]) {
    my ($secret, $reason) = @$case;
    second_start(sub { s/\Q$secret\E/another secret, of 32 characters or more/g });
    copy('a', 'b');
    on_second(sub { is(outcome(visit(jar => 'b')), "401 | 401 $reason", "a gateway with another secret: $reason") });
    second_stop();
}
works('the owner', 'a');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: what is in Redis: keys and values that say nothing
--- engine
kb = logins({ session_storage = "store", logout_uri_suffix = "/logout", logout_redirect_uri = "https://api.test/logged-out", store_secret = "a secret of all gateways, of 32 characters or more" },
    { store = { redis = { host = "127.0.0.1", port = $REDIS, connect_timeout = 1000, timeout = 1000 } } })
--- run
redis('FLUSHALL');
as_control('/ttl', { AccessToken => 3 });
my $issued = claims(bearer(logs_in('a login', 'a')))->{iat};
my @tokens = bearer(visit(jar => 'a'));
until_s($issued + 3.1);
push @tokens, bearer(visit(jar => 'a'));
is(scalar(grep { defined } @tokens), 2, 'refreshed');
as_control('/ttl', {});
my ($id) = cookie('a') =~ /^1\.(.*)/;
my @keys = redis_keys();
cmp_ok(scalar @keys, '>=', 3, 'the session, the login, the refresh: ' . @keys);
my $all = join "\n", map { "$_->{key} $_->{value}" } @keys;
my %secret = ('the id' => $id, 'the id, decoded' => MIME::Base64::decode_base64($id =~ tr{-_}{+/}r . '='), 'the user' => 'alice', 'a client' => 'web', 'a member' => 'access_token',
    'a JWT' => 'eyJ', 'the certificate' => thumbprint('client'), 'the secret' => 'the-secret-of-sessions', map { ("token $_" => $tokens[$_], "signature $_" => (split /\./, $tokens[$_])[2]) } 0, 1);
is(join(', ', grep { index($all, $secret{$_}) >= 0 } sort keys %secret), '', 'of what is secret nothing is there');
unlike($_->{value}, qr/[A-Za-z0-9_-]{20}/, 'no text in the value of ' . unpack 'H8', $_->{key}) for grep { length $_->{value} > 16 } @keys;
is(scalar(grep { $_->{key} !~ /^keybound:.{32}$/s } @keys), 0, 'keys are hashes');
is(scalar(grep { $_->{ttl} <= 0 || $_->{ttl} > 86400 * 1000 } @keys), 0, 'all of it ends');
my $got = browse(jar => 'a', cert => 'client', from => 'https://api.test/', method => 'POST', data => '', path => '/logout', no_follow => 1);
my $hint = query($got->{headers}{location})->{id_token_hint};
like($hint, qr/^eyJ/, 'the ID token, as the authorization server gets it');
is(index($all, $hint), -1, 'is not there');
my %left = map { $_->{key} => 1 } redis_keys();
my @gone = grep { !$left{ $_->{key} } } @keys;
is(scalar @gone, 1, 'the session itself is gone');
ok($gone[0]{ttl} > 880_000 && $gone[0]{ttl} <= 900_000, "and would have been with the first of its timeouts: $gone[0]{ttl} ms");
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 5: the store is down: 503 and not 401, and nothing is lost when it is back; a session in a cookie goes on
--- engine
local redis = { store = { redis = { host = "127.0.0.1", port = $REDIS, connect_timeout = 1000, timeout = 1000 } } }
kb = logins({ session_storage = "store", logout_uri_suffix = "/logout", store_secret = "a secret of all gateways, of 32 characters or more" }, redis)
at("cookie", { store_secret = "a secret of all gateways, of 32 characters or more" }, redis)
--- run
redis('FLUSHALL');
logs_in('a login', 'a');
logs_in('with a cookie', 'b', path => '/at/cookie');
my %back = map { $_ => begun(jar => "login $_", path => $_ eq 'kb' ? '/' : "/at/$_") } qw(kb cookie);
my $before = cookies('a');
redis('SAVE');
redis_stop();
for (1, 2) {
    log_mark();
    my $response = visit(jar => 'a');
    is(outcome($response), '503 | 503 store_unavailable', 'a session');
    is(join('', header($response, 'Set-Cookie'), header($response, 'WWW-Authenticate')), '', 'keeps its cookie');
}
log_mark();
my $page = visit(jar => 'a', page => 1);
is(outcome($page), '503 | 503 store_unavailable', 'no new login, either');
like($page->{body}, qr/<h1>Not available now/, 'with a page');
log_mark();
is(outcome(visit(jar => 'a', method => 'POST', path => '/logout')), '503 | 503 store_unavailable', 'no logout that would not be one');
log_mark();
is(outcome(visit(jar => 'b', path => '/at/cookie')), '200', 'a session in a cookie');
for my $name (sort keys %back) {
    returns("$name: a login that comes back", '503 store_unavailable', $back{$name}, jar => "login $name");
    is(cookie("login $name"), undef, "$name: is not one");
}
redis_start();
# One that failed is left alone for a second.
until_s(Time::HiRes::time() + 1.2);
is(cookies('a'), $before, 'the cookie is the same');
works('it is back', 'a');
works('it is back', 'b', path => '/at/cookie');
logs_in('a new login', 'c');
unlink "$RUN/dump.rdb";
--- timeout: 60
--- no_error_log
[alert]

=== TEST 6: rolling, idling and absolute timeouts; a session that is used is written again, now and then
--- engine
local function timeouts(rolling, idling, absolute)
    return { auth_methods = { "session", "bearer" }, redirect_uri = cjson.null, scopes = cjson.null, client_id = cjson.null, client_auth = cjson.null, tls_client_auth_cert_id = cjson.null,
        client_certificates = cjson.null, session_bind_certificate = false, session_rolling_timeout = rolling, session_idling_timeout = idling, session_absolute_timeout = absolute }
end
for _, storage in ipairs { "cookie", "store" } do
    for name, of in pairs { rolling = { 8, 0, 0 }, idling = { 0, 8, 0 }, absolute = { 0, 0, 8 }, endless = { 0, 0, 0 } } do
        local config = timeouts(unpack(of))
        config.session_storage = storage
        _G[storage .. "_" .. name] = logins(config)
    end
end
kb = cookie_rolling
--- run
define(long => { as => 'any', cert => 'client' });
my @names = map { my $storage = $_; map { "${storage}_$_" } qw(rolling idling absolute endless) } qw(cookie store);
known('a token', named_token('long'));
my $t = int(Time::HiRes::time()) + 1;
# ask(NAME, EXPECTED, JAR): and what the answer says of cookies. Where the store forgot a session itself, nobody knows whose the cookie was.
sub ask {
    my ($name, $expected, $jar) = @_;
    log_mark();
    my $response = visit(jar => $jar // $name, path => "/at/$name");
    my $says = $response->{status} == 401 && $name =~ /store/ ? 'removed' : says($response);
    is(outcome($response) . " $says", $expected, ($jar // $name) . ' after ' . int(Time::HiRes::time() - $t) . ' s');
}
my ($same, $set, $over) = ('200 ', '200 set', '401 | 401 session_expired removed');
until_s($t + 0.15);
for my $name (@names) {
    my $response = visit(jar => $name, path => "/at/$name", token => 'long');
    is(outcome($response) . ' ' . says($response), $set, "$name begins");
    copy($name, "$name, of the beginning");
}
until_s($t + 2.2);
ask($_, /idling/ ? $set : $same) for @names;
until_s($t + 4.2);
ask($_, $same) for grep { !/idling/ } @names;
until_s($t + 6.2);
ask($_, /idling|rolling/ ? $set : $same) for @names;
until_s($t + 8.2);
ask($_, /absolute/ ? $over : /idling/ ? $set : $same) for @names;
# In the store there is but one.
ask($_, /store/ ? $same : $over, "$_, of the beginning") for grep { /rolling|idling/ } @names;
until_s($t + 14.2);
ask($_, /rolling/ ? $over : $same) for grep { !/idling|absolute/ } @names;
until_s($t + 16.9);
ask($_, $over) for grep { /idling/ } @names;
ask($_, $same) for grep { /endless/ } @names;
is(cookies($_), /endless/ ? cookies("$_, of the beginning") : '', "$_: what the browser has in the end") for grep { /cookie/ } @names;
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 7: rfc8705_3: the session of a bearer token demands the token's certificate with each request
--- engine
local function of_tokens(more)
    local config = { auth_methods = { "session", "bearer" }, redirect_uri = cjson.null, scopes = cjson.null, session_bind_certificate = cjson.null,
        client_id = cjson.null, client_auth = cjson.null, tls_client_auth_cert_id = cjson.null, client_certificates = cjson.null }
    for name, value in pairs(more or {}) do
        config[name] = value
    end
    return logins(config)
end
kb = of_tokens()
store = of_tokens { session_storage = "store" }
bind = of_tokens { session_bind_certificate = true }
strict = of_tokens { session_cookie_same_site = "Strict" }
optional = of_tokens { proof_of_possession_mtls = "optional" }
disabled = of_tokens { disable_session = { "bearer" } }
hide = of_tokens { hide_credentials = true }
--- run
define(own => { as => 'any', cert => 'client' }, free => { as => 'unbound', cert => 'client' });
known('a token', named_token($_)) for qw(own free);
for my $name (qw(kb store bind optional hide strict)) {
    my $path = "/at/$name";
    for my $cert ('thief', '-') {
        log_mark();
        my $response = visit(jar => 'x', path => $path, token => 'own', cert => $cert);
        is(outcome($response) . ' ' . says($response), '401 | 401 certificate_' . ($cert eq '-' ? 'missing' : 'mismatch') . ' ', "$name: the token, certificate $cert: no session");
    }
    log_mark();
    my $response = visit(jar => $name, path => $path, token => 'own');
    is(outcome($response) . ' ' . says($response), '200 set', "$name: the token with its certificate: a session");
    $response = visit(jar => $name, path => $path);
    is(outcome($response), '200', "$name: the cookie alone");
    is(seen($response)->{sub}, claims(named_token('own'))->{sub}, "$name: whose it is");
    is(bearer($response), $name eq 'hide' ? undef : named_token('own'), "$name: what the upstream gets");
    for my $cert ('thief', '-') {
        log_mark();
        is(outcome(visit(stolen => $name, path => $path, cert => $cert)), "401 | 401 session_certificate_" . ($cert eq '-' ? 'missing' : 'mismatch'), "$name: the cookie, certificate $cert");
    }
    log_mark();
    is(outcome(visit(stolen => $name, path => $path, cert => '-', tls => '1.2')), "401 | 401 session_certificate_missing", "$name: TLS 1.2 without certificate");
    log_mark();
    is(outcome(visit(jar => $name, path => $path, tls => $_)), '200', "$name: the owner, TLS $_") for qw(1.2 1.3);
    # A session comes first, whatever else there is.
    $response = visit(jar => $name, path => $path, token => 'free');
    is(outcome($response), '200', "$name: another token beside it");
    is(bearer($response), $name eq 'hide' ? undef : named_token('own'), "$name: is not looked at, and does not reach the upstream");
}
log_mark();
is(outcome(visit(path => '/at/kb', token => 'free')), '401 | 401 token_unbound', 'strict: a token without cnf');
log_mark();
my $response = visit(jar => 'free', path => '/at/optional', token => 'free', cert => '-');
is(outcome($response) . ' ' . says($response), '200 set', 'optional: one passes, as the operator says');
is(outcome(visit(jar => 'free', path => '/at/optional', cert => 'thief')), '200', 'optional: and so does its session');
log_mark();
# What was let through there is not let through elsewhere, although the secret is the same.
is(outcome(visit(jar => 'free', path => '/at/kb')), '401 | 401 token_unbound', 'strict: not its session');
$response = visit(jar => 'none', path => '/at/disabled', token => 'own');
is(says($response), '', 'disable_session: no session');
--- no_error_log
[error]
[alert]

=== TEST 8: a session of an introspected token ends when the server says that the token does
--- engine
kb = logins { auth_methods = { "session", "introspection" }, redirect_uri = cjson.null, scopes = cjson.null, session_bind_certificate = cjson.null, client_id = "gateway",
    tls_client_auth_cert_id = "gateway", client_certificates = { gateway = certificate "gateway" }, introspection_cache_ttl = 1, session_storage = "store" }
--- run
define(opaque => { as => 'any', cert => 'client', resource => 'opaque' });
known('a token', named_token('opaque'));
my $response = visit(jar => 'a', token => 'opaque');
is(outcome($response) . ' ' . says($response), '200 set', 'a session');
until_s(Time::HiRes::time() + 1.2);
is(outcome(visit(jar => 'a')), '200', 'the server is asked again');
log_mark();
is(outcome(visit(stolen => 'a', cert => 'thief')), '401 | 401 session_certificate_mismatch', 'a thief');
as_request('/token/revocation', { token => named_token('opaque') }, client => 'any', cert => 'client');
until_s(Time::HiRes::time() + 1.2);
log_mark();
$response = visit(jar => 'a');
is(outcome($response) . ' ' . says($response), '401 | 401 token_inactive removed', 'revoked');
log_mark();
is(outcome(visit(jar => 'a')), '401 | 401 no_token', 'and nothing is left');
--- no_error_log
[error]
[alert]

=== TEST 9: rfc6265_6_1: a large session is in several cookies, each of which browsers keep; one that is too large is refused, and goes into the store
--- engine
kb = logins { logout_uri_suffix = "/logout" }
at("store", { session_storage = "store" })
--- run
local *tampered = sub { as_control('/tamper', $_[0] ? { path => '/token', id_token => { set => { more => join '', map { chr 97 + int rand 26 } 1 .. $_[0] } } } : {}) };
my %parts = (0 => 1, 2000 => 2, 6000 => 4);
for my $size (6000, 2000, 0) {
    tampered($size);
    my $got = sees("$size more: a login", $FLOW, jar => 'a', user => 'alice', path => '/x');
    my @parts = parts('a');
    is(scalar @parts, $parts{$size}, "$size more: so many parts");
    is(join(' ', map { $_->[0] } @parts), join(' ', '__Host-session', map { "__Host-session_$_" } 2 .. @parts), "$size more: their names");
    my @sent = grep { !/_login_/ } @{ $got->{hops}[-2]{set_cookie} };
    is(join(' ', grep { $_ > 4096 } map { length } @sent), '', "$size more: none is too large for a browser");
    is(scalar(grep { !/; Path=\/; Secure; HttpOnly; SameSite=Lax(?:; Expires=Thu, 01 Jan 1970 00:00:00 GMT)?$/ } @sent), 0, "$size more: all with the same attributes");
    works("$size more", 'a');
    is(seen(visit(jar => 'a'))->{cookie}, undef, "$size more: no part reaches the upstream");
    for my $cert ('thief', '-') {
        log_mark();
        is(outcome(visit(stolen => 'a', cert => $cert)), '401 | 401 session_certificate_' . ($cert eq '-' ? 'missing' : 'mismatch'), "$size more: certificate $cert");
    }
    my @cookies = @{ jar('a') };
    for my $without (@parts > 1 ? map { $_->[0] } @parts : ()) {
        jar('less', [ grep { $_->{name} ne $without } @cookies ]);
        log_mark();
        is(outcome(visit(jar => 'less')), '401 | 401 session_invalid', "$size more: without $without");
    }
    # The next login is in fewer: what is more is removed.
    log_mark();
    my $response = visit(jar => 'a', method => 'POST', path => '/logout');
    is(outcome($response), '200 | 200 logged_out', "$size more: logged out");
    is(says($response), join(' ', ('removed') x @parts), "$size more: all parts are removed");
    jar('a', [ @cookies, grep { $_->{domain} ne 'api.test' } @{ jar('a') } ]) if $size;
    # So that the cookie does not let in.
    jar('a', [ map { $_->{name} eq '__Host-session' ? { %$_, value => '1.AAAA' } : $_ } @{ jar('a') } ]);
}
jar('a', [ grep { $_->{domain} ne 'api.test' } @{ jar('a') } ]);
tampered(11000);
my $got = sees('too large', '302 login_started, 500 internal_error', jar => 'a', user => 'alice');
like(join(' ', @{ $got->{details} }), qr/too large for cookies: set session_storage to store/, 'the log says what to do');
is(cookie('a'), undef, 'and there is no session');
sees('too large for cookies, and not for the store', $FLOW, jar => 'a', user => 'alice', path => '/at/store');
is(length cookie('a'), 45, 'which needs an id only');
works('in the store', 'a', path => '/at/store');
tampered(0);
--- timeout: 60
--- no_error_log
[alert]

=== TEST 10: the session's cookie beside those of the upstream, which gets its own back and none of ours
--- engine
kb = logins { auth_methods = { "session", "bearer" }, redirect_uri = cjson.null, scopes = cjson.null, session_bind_certificate = cjson.null, client_id = cjson.null, client_auth = cjson.null,
    tls_client_auth_cert_id = cjson.null, client_certificates = cjson.null }
bare = logins({ auth_methods = { "session", "bearer" }, redirect_uri = cjson.null, scopes = cjson.null, session_bind_certificate = cjson.null, client_id = cjson.null,
    client_auth = cjson.null, tls_client_auth_cert_id = cjson.null, client_certificates = cjson.null, session_cookie_name = "__Host-bare" }, { store = "logins", ctx = false })
--- servers
server {
    listen $UPSTREAM;
    location / {
        content_by_lua_block {
            ngx.header["Set-Cookie"] = { "upstream=1; Path=/", "more=2; Path=/x" }
            ngx.print("cookie: ", ngx.var.http_cookie or "none")
        }
    }
}
--- tls
location /proxied { access_by_lua_block { kb:access() } header_filter_by_lua_block { kb:header_filter() } proxy_pass http://$UPSTREAM; }
location /bare { access_by_lua_block { bare:access() } proxy_pass http://$UPSTREAM; }
--- run
define(long => { as => 'any', cert => 'client' });
known('a token', named_token('long'));
for my $path ('/proxied', '/bare') {
    for my $h2 (0, 1) {
        jar('a', []);
        my $name = $path eq '/bare' ? '__Host-bare' : '__Host-session';
        my $response = visit(jar => 'a', path => $path, token => 'long', h2 => $h2);
        is(join(' ', sort map { /^([^=]+)/ } header($response, 'Set-Cookie')), "$name more upstream", "$path, h2=$h2: all three arrive, once each");
        is($response->{body}, 'cookie: none', "$path, h2=$h2: the first request");
        $response = visit(jar => 'a', path => $path, h2 => $h2);
        is($response->{status}, 200, "$path, h2=$h2: by the session");
        is(join(' ', sort split /; /, $response->{body} =~ s/^cookie: //r), 'more=2 upstream=1', "$path, h2=$h2: the upstream gets its own");
        is(join(' ', sort map { /^([^=]+)/ } header($response, 'Set-Cookie')), 'more upstream', "$path, h2=$h2: nothing is set again without need");
    }
}
jar('a', []);
visit(jar => 'a', path => '/proxied', token => 'long');
my $own = '__Host-session=' . cookie('a');
for my $case ([ "a=1; $own; b=2", 'a=1; b=2' ], [ "$own", 'none' ], [ "$own; __Host-session_2=x; __Host-session_login_1=y; __Host-session_9=z; __Host-sessions=w", '__Host-session_9=z; __Host-sessions=w' ],
    [ "a=\"q;$own;b", 'a="q;b' ], [ "$own; a=1; a=2; =3; 4", 'a=1; a=2; =3; 4' ]) {
    my ($sent, $expected) = @$case;
    log_mark();
    my $response = visit(path => '/proxied', headers => ["Cookie: $sent"]);
    is(join(' ', outcome($response), $response->{body}), "200 cookie: $expected", 'the upstream sees ' . $expected);
}
--- timeout: 60
--- no_error_log
[error]
[alert]
