# keybound_zone: what the workers of nginx share, and what happens when it is full: what can be fetched anew goes, what cannot is never lost
# before its time.
use Module;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

sub forget { as_control('/log/clear', {}, @_) }
my $unique = 0;
sub fresh { return { text => 'opaque-' . ++$unique . '-' . int rand 1e9 } }
sub active { return (active => JSON::PP::true, aud => 'https://api.test', exp => time + 600 | 0, cnf => { 'x5t#S256' => thumbprint('client') }, @_) }
sub asked_peer { return scalar grep { $_->{path} eq '/introspect' } map { @{ $_->{requests} } } @{ peer_log()->{log} } }

# both(CALL...): made until each worker has served; how many requests that took
sub both {
    my @calls = @_;
    write_file("$RUN/pids.log", '');
    kill USR1 => master();
    return until_true(10, sub {
        at_once(4, @calls);
        my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/pids.log");
        return keys %pids >= 2;
    });
}

# begin_session(): a user's password begins one: its cookie, or undef where there is no room for it
our $ALICE = 'Basic ' . MIME::Base64::encode_base64('alice:alice-password', '');
sub begin_session { return (header(call(cert => 'client', authorization => $ALICE), 'Set-Cookie') =~ /^(__Host-session=[^;]+)/)[0] }

add_block_preprocessor(sub {
    my ($block) = @_;
    my $size = $block->zone // '1m';
    $block->set_value(http_config => ($size eq 'none' ? '' : "keybound_zone kb $size;\n") . "log_format pids '\$pid';\n" . ($block->http_config // ''));
    $block->set_value(tls => "access_log \$RUN/pids.log pids;\nlarge_client_header_buffers 4 20k;\n" . ($block->tls // ''));
});

run_tests();

__DATA__

=== TEST 1: an opaque token is introspected once for both workers
--- engine
kb: tls
--- run
define(opaque => opaque());
named_token('opaque');
forget();
passes({ cert => 'client', token => 'opaque' }, 'the first one');
ok(both({ cert => 'client', token => 'opaque' }), 'both workers');
refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'of a thief') for 1 .. 4;
is(join(' ', fetched(), scalar(introspections())), '1 0 1', 'metadata, keys, introspections');
--- no_error_log
[error]
[alert]

=== TEST 2: its twin without a zone: each worker asks for itself
--- zone: none
--- engine
kb: tls
--- run
define(opaque => opaque());
named_token('opaque');
forget();
ok(both({ cert => 'client', token => 'opaque' }), 'both workers');
is(join(' ', fetched(), scalar(introspections())), '2 0 2', 'each once');
--- no_error_log
[error]
[alert]

=== TEST 3: many at once before there are keys: fetched once over both workers
--- engine
kb: keys
--- run
named_token('as:client');
forget();
as_control('/hang', { ms => 400, path => '/jwks' });
my $seen = flood(60, 8, cert => 'client', token => 'as:client');
as_control('/hang', { ms => 0 });
is(json($seen), '{"200":480}', 'all pass');
is(fetched(), '1 1', 'one of each');
my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/pids.log");
cmp_ok(scalar keys %pids, '>=', 2, 'both workers');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: a small zone and more tokens than it holds: each is answered, the old ones go and are asked about anew
--- zone: 64k
--- engine
kb: peer { "token_cache_entries": 0 }
--- run
peer_script({ '/introspect' => { json => { active(pad => 'x' x 600) } } });
peer_control('/log/clear');
my @tokens = map { fresh()->{text} } 1 .. 150;
log_mark();
for my $token (@tokens) {
    my $response = call(cert => 'client', authorization => "Bearer $token");
    $response->{status} == 200 or fail("$token: $response->{status} " . join ' ', reasons());
}
is(asked_peer(), 150, 'each was asked about once');
is(call(cert => 'client', authorization => "Bearer $tokens[-1]")->{status}, 200, 'the last one');
is(asked_peer(), 150, 'is there');
is(call(cert => 'client', authorization => "Bearer $tokens[0]")->{status}, 200, 'the first one');
is(asked_peer(), 151, 'has gone, and comes anew');
# What is used stays, while sixty others come and go.
for my $token (@tokens[1 .. 60]) {
    call(cert => 'client', authorization => "Bearer $_") for $token, $tokens[0];
}
is(asked_peer(), 211, 'the one that was used all the while is not asked for');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 5: an entry that is larger than the zone has room for is not shared, and its request is answered
--- zone: 64k
--- engine
kb: peer { "token_cache_entries": 0 }
--- run
peer_script({ '/introspect' => { json => { active(pad => 'x' x 100_000) } } });
define(opaque => fresh());
for (1, 2) {
    my $response = call(cert => 'client', token => 'opaque');
    like(join(' ', $response->{status}, reasons()), qr/^(?:200|503)/, 'decided');
}
peer_script({ '/introspect' => { json => { active() } } });
define(small => fresh());
passes({ cert => 'client', token => 'small' }, 'the next one');
--- no_error_log
[alert]
exited on signal

=== TEST 6: two zones: what is in one is not in the other
--- http_config
server { listen unix:$RUN/zone.sock; keybound_zone two 1m; }
--- engine
kb: tls
other: tls
--- tls
location /other { keybound_config $KB/other.json; keybound_zone two; $PROXY; }
--- run
define(opaque => opaque());
named_token('opaque');
forget();
passes({ cert => 'client', token => 'opaque' }, 'the one');
passes({ cert => 'client', token => 'opaque', path => '/other' }, 'the other');
is(scalar(introspections()), 2, 'each asks');
--- no_error_log
[error]
[alert]

=== TEST 7: a zone that gets another size with a reload is a new one: what was in it is asked for anew
--- engine
kb: tls
--- run
define(opaque => opaque());
passes({ cert => 'client', token => 'opaque' }, 'before');
my $conf = "$ENV{TEST_NGINX_SERVROOT}/conf/nginx.conf";
write_file($conf, read_file($conf) =~ s/keybound_zone kb 1m/keybound_zone kb 2m/r);
forget();
ok(hup(), 'reloaded');
passes({ cert => 'client', token => 'opaque' }, 'after');
is(scalar(introspections()), 1, 'asked anew');
write_file($conf, read_file($conf) =~ s/keybound_zone kb 2m/keybound_zone kb 1m/r);
ok(hup(), 'and back');
passes({ cert => 'client', token => 'opaque' }, 'after that');
--- no_error_log
[error]
[alert]

=== TEST 8: a store_secret of the file is that of both workers; what another secret sealed is not read
--- engine
kb: tls { "store_secret": "0123456789012345678901234567890123456789" }
--- run
define(opaque => opaque());
named_token('opaque');
forget();
ok(both({ cert => 'client', token => 'opaque' }), 'both workers');
is(scalar(introspections()), 1, 'asked once');
engine_file('kb', 'tls', { store_secret => 'another-secret-another-secret-another-secret' });
forget();
ok(hup(), 'reloaded');
passes({ cert => 'client', token => 'opaque' }, 'with another secret');
is(scalar(introspections()), 1, 'asked anew');
--- no_error_log
[alert]

=== TEST 9: a zone full of sessions: those that are there live on, no other begins, and a login, which needs it, is refused
--- zone: 64k
--- engine
kb: web { "auth_methods": ["session", "password", "authorization_code"], "session_storage": "store", "proof_of_possession_mtls": "off", "session_bind_certificate": null }
--- run
my @cookies = grep { defined } map { begin_session() } 1 .. 60;
cmp_ok(scalar @cookies, '>=', 4, 'some sessions began: ' . @cookies);
cmp_ok(scalar @cookies, '<', 60, 'and then none');
like(whole_log(), qr/keybound: the shared store failed/, 'the log says so');
is(call(cert => 'client', authorization => $ALICE)->{status}, 200, 'who brings a password needs none');
log_mark();
is(browse(cert => 'client', user => 'alice')->{status}, 503, 'a login needs it');
like(log_since(), qr/reason=store_unavailable, status=503/, 'the log says why');
my @alive = grep { call(cert => 'client', headers => ["Cookie: $_"])->{status} == 200 } @cookies;
is(scalar @alive, scalar @cookies, 'all that began live on');
--- timeout: 60
--- no_error_log
[alert]
exited on signal

=== TEST 10: its twin with room: as many sessions as one likes, and the login
--- zone: 2m
--- engine
kb: web { "auth_methods": ["session", "password", "authorization_code"], "session_storage": "store", "proof_of_possession_mtls": "off", "session_bind_certificate": null }
--- run
is(scalar(grep { defined } map { begin_session() } 1 .. 60), 60, 'all begin');
is(browse(cert => 'client', user => 'alice')->{status}, 200, 'the login');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 11: entries end at their time: sessions that are over make room
--- zone: 64k
--- engine
kb: web { "auth_methods": ["session", "password"], "session_storage": "store", "redirect_uri": null, "proof_of_possession_mtls": "off", "session_bind_certificate": null,
    "session_absolute_timeout": 6, "session_idling_timeout": 6, "session_rolling_timeout": 6 }
--- run
my $n = 0;
$n++ while $n < 60 && defined begin_session();
cmp_ok($n, '<', 60, "full after $n");
pause(7.2);
ok(defined begin_session(), 'room again');
--- timeout: 60
--- no_error_log
[alert]
