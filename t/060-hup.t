# Reloads of nginx under load: no valid request fails, a changed configuration takes effect, a bad one does not.
use Keybound;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);

# The engine's options are in a file; `/generation` says which one a worker has read.
my $OPTIONS = "$Keybound::RUN/options.json";
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<"EOL");
        local file = assert(io.open("$OPTIONS"))
        local more = cjson.decode(file:read("*a"))
        file:close()
        generation, more.generation = more.generation, nil
        kb = engine(more)
EOL
    $block->set_value(post_setup_server_root => 'main::set_options()');
    $block->set_value(config => 'location = /generation { content_by_lua_block { ngx.print(generation) } }');
});
our $generation = 0;
sub set_options { write_file($OPTIONS, json({ @_, generation => ++$generation })) }

sub hup {
    kill HUP => Test::Nginx::Util::get_pid_from_pidfile('hup') or die "HUP: $!\n";
}

# Until the new workers answer, and only they.
sub reloaded {
    my $new = 0;
    for (1 .. 300) {
        $new = (call(plain => 1, path => '/generation')->{body} // '') eq $generation ? $new + 1 : 0;
        return 1 if $new == 6;
        select undef, undef, undef, 0.01;
    }
    return 0;
}

run_tests();

__DATA__

=== TEST 1: six reloads under load: every request is decided right
--- run
my @calls = map { ({ cert => 'client', token => 'bound' }, { cert => 'thief', token => 'bound' }) } 1 .. 2;
my $pid = fork // die "fork: $!\n";
if ($pid == 0) {
    for (1 .. 6) {
        select undef, undef, undef, 0.25;
        hup();
    }
    POSIX::_exit(0);
}
my @seen = at_once(250, @calls);
waitpid $pid, 0;
is(json(\@seen), '[{"200":250},{"401":250},{"200":250},{"401":250}]', 'each by its certificate');
my $log = read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log");
is(scalar(() = $log =~ /signal 1 \(SIGHUP\) received/g), 6, 'six reloads');
cmp_ok(scalar(() = $log =~ /gracefully shutting down/g), '>=', 10, 'of the workers');
--- timeout: 30
--- no_error_log
[error]
[alert]
[emerg]
exited on signal

=== TEST 2: a changed configuration takes effect, both ways
--- run
log_mark();
check(call(token => 'unbound'), '401 invalid_token token_unbound', 'strict');
log_mark();
check(call(cert => 'client', token => 'bound'), '200', 'own certificate');
set_options(proof_of_possession_mtls => 'optional');
hup();
ok(reloaded(), 'reloaded');
log_mark();
check(call(token => 'unbound'), '200', 'optional');
log_mark();
check(call(cert => 'thief', token => 'bound'), '401 invalid_token certificate_mismatch', 'another certificate');
set_options();
hup();
ok(reloaded(), 'reloaded');
log_mark();
check(call(token => 'unbound'), '401 invalid_token token_unbound', 'strict again');
log_mark();
check(call(cert => 'client', token => 'bound'), '200', 'own certificate');
--- no_error_log
[error]
[alert]

=== TEST 3: rotated keys take effect: tokens of the old one end, although they were remembered
--- run
for (1 .. 4) {
    log_mark();
    check(call(cert => 'client', token => 'bound'), '200', 'the old key');
}
my $jwks = Keybound::jwks();
shift @{ $jwks->{keys} };
set_options(jwks => $jwks);
hup();
ok(reloaded(), 'reloaded');
for (1 .. 4) {
    log_mark();
    check(call(cert => 'client', token => 'bound'), '401 invalid_token key_unknown', 'the old key');
    log_mark();
    check(call(cert => 'client', token => 'rs256'), '200', 'the new key');
}
--- no_error_log
[error]
[alert]

=== TEST 4: a configuration that keybound refuses is not taken: the old one goes on
--- run
my $before = $generation;
set_options(proof_of_possession_mtls => 'maybe');
log_mark();
hup();
for (1 .. 200) {
    last if log_since() =~ /proof_of_possession_mtls: must be/;
    select undef, undef, undef, 0.01;
}
like(log_since(), qr/keybound.new: proof_of_possession_mtls: must be strict, optional or off/, 'the log says why');
is(call(plain => 1, path => '/generation')->{body}, $before, 'the old workers are there');
log_mark();
check(call(cert => 'client', token => 'bound'), '200', 'own certificate');
log_mark();
check(call(cert => 'thief', token => 'bound'), '401 invalid_token certificate_mismatch', 'another one');
--- no_error_log
[alert]
exited on signal

=== TEST 5: sessions outlive a reload in the shared cache, and are decided by the new configuration
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
ssl_session_tickets off;
add_header X-Reused $ssl_session_reused always;
--- run
set_options(proof_of_possession_mtls => 'optional');
hup();
ok(reloaded(), 'reloaded');
for my $tls ('1.2', '1.3') {
    is(s_client(cert => 'client', token => 'unbound', tls => $tls, save => "$RUN/hup$tls")->{status}, 200, 'optional');
    s_client(cert => 'client', token => 'bound', tls => $tls, save => "$RUN/hup-bound$tls");
}
set_options();
hup();
ok(reloaded(), 'reloaded');
for my $tls ('1.2', '1.3') {
    log_mark();
    my $response = s_client(token => 'unbound', tls => $tls, resume => "$RUN/hup$tls");
    is(header($response, 'X-Reused'), 'r', "TLS $tls: resumed");
    check($response, '401 invalid_token token_unbound', "TLS $tls: strict");
    log_mark();
    $response = s_client(token => 'bound', tls => $tls, resume => "$RUN/hup-bound$tls");
    is(header($response, 'X-Reused'), 'r', "TLS $tls: resumed");
    check($response, '200', "TLS $tls: the certificate of the session");
}
--- no_error_log
[error]
[alert]
