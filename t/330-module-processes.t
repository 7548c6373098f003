# What happens to nginx happens to the module: reloads under load, binary upgrades, workers that are killed, one process for all. No valid
# request fails that nginx itself would not fail, and nothing is left behind.
use Module;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

sub forget { as_control('/log/clear', {}, @_) }
sub started { return map { Keybound::start_command('', Keybound::_curl_words(%$_), '-i') } @_ }
sub statuses { return join ' ', map { Keybound::response((Keybound::finish_command($_))[1])->{status} // '-' } @_ }

# both(CALL): made until each worker has taken it
sub both {
    my ($call) = @_;
    write_file("$RUN/pids.log", '');
    kill USR1 => master();
    return until_true(10, sub {
        at_once(4, $call, $call);
        my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/pids.log");
        return keys %pids >= 2;
    });
}

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => "keybound_zone kb 1m;\nlog_format pids '\$pid';\n" . ($block->http_config // ''));
    $block->set_value(tls => "access_log \$RUN/pids.log pids;\n" . ($block->tls // ''));
    $block->set_value(config => "location = /metrics { keybound_metrics; }\n");
});

run_tests();

__DATA__

=== TEST 1: six reloads under load: every request is decided right, on new connections and on kept ones
--- run
my @calls = map { my $keep = $_; map { { cert => $_, token => 'bound', keep => $keep, rate => 150 } } qw(client thief) } 0, 1;
my @traffic = traffic(300, @calls);
for (1 .. 6) {
    pause(0.25);
    ok(hup(), 'reloaded');
}
is(json([ landed(@traffic) ]), '[{"200":300},{"401":300},{"200":300},{"401":300}]', 'each by its certificate');
is(scalar(() = whole_log() =~ /signal 1 \(SIGHUP\) received/g), 6, 'six reloads');
--- timeout: 40
--- no_error_log
[error]
[alert]
[emerg]
exited on signal

=== TEST 2: a changed file takes effect with a reload, both ways; not before
--- run
passes({ cert => 'client', token => 'bound' }, 'strict');
refuses({ token => 'unbound' }, '401 invalid_token token_unbound', 'strict');
engine_file('kb', '', { proof_of_possession_mtls => 'optional' });
refuses({ token => 'unbound' }, '401 invalid_token token_unbound', 'not before');
ok(hup(), 'reloaded');
passes({ token => 'unbound' }, 'optional');
refuses({ cert => 'thief', token => 'bound' }, '401 invalid_token certificate_mismatch', 'another certificate');
engine_file('kb', '');
ok(hup(), 'reloaded');
refuses({ token => 'unbound' }, '401 invalid_token token_unbound', 'strict again');
passes({ cert => 'client', token => 'bound' }, 'own certificate');
--- no_error_log
[error]
[alert]

=== TEST 3: rotated keys take effect: tokens of the old one end, although they were remembered
--- run
passes({ cert => 'client', token => 'bound' }, 'the old key') for 1 .. 4;
my $jwks = Keybound::jwks();
shift @{ $jwks->{keys} };
engine_file('kb', '', { jwks => $jwks });
ok(hup(), 'reloaded');
refuses({ cert => 'client', token => 'bound' }, '401 invalid_token key_unknown', 'the old key') for 1 .. 4;
passes({ cert => 'client', token => 'rs256' }, 'the new key') for 1 .. 4;
--- no_error_log
[error]
[alert]

=== TEST 4: a file that is refused is not taken: the old one goes on
--- run
until_true(5, sub { children() == 2 });
my %before = map { $_ => 1 } children();
write_file("$RUN/engines/kb.json", json({ %Keybound::DEFAULTS, proof_of_possession_mtls => 'maybe' }));
log_mark();
kill HUP => master();
ok(until_true(5, sub { log_since() =~ /\[emerg\].*proof_of_possession_mtls: must be strict, optional or off/ }), 'the log says why');
like(log_since(), qr/\[emerg\].* in \S+nginx\.conf:\d+/, 'and where');
is(scalar(grep { !$before{$_} } children()), 0, 'the old workers are there');
passes({ cert => 'client', token => 'bound' }, 'own certificate');
refuses({ cert => 'thief', token => 'bound' }, '401 invalid_token certificate_mismatch', 'another one');
--- no_error_log
[alert]
exited on signal

=== TEST 5: a reload during a fetch: who waits is answered by the old worker
--- engine
kb: keys
--- run
named_token('as:client');
forget();
as_control('/hang', { ms => 1200, path => '/jwks' });
my @waiting = started(map { { cert => $_, token => 'as:client' } } qw(client thief client));
pause(0.4);
ok(hup(), 'reloaded');
is(statuses(@waiting), '200 401 200', 'answered');
as_control('/hang', { ms => 0 });
passes({ cert => 'client', token => 'as:client' }, 'afterwards');
ok(until_true(5, sub { !grep { ((eval { read_file($_) }) // '') =~ /worker process is shutting down/ } glob '/proc/[0-9]*/cmdline' }), 'the old workers end');
--- no_error_log
[alert]
exited on signal

=== TEST 6: what the workers share outlives a reload: nothing is asked for again
--- engine
kb: tls
--- run
define(opaque => opaque());
passes({ cert => 'client', token => 'opaque' }, 'before');
forget();
ok(hup(), 'reloaded');
ok(both({ cert => 'client', token => 'opaque' }), 'both workers');
passes({ cert => 'client', token => 'opaque' }, 'after');
refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'of a thief');
is(join(' ', fetched(), scalar(introspections())), '0 0 0', 'neither documents nor an introspection');
--- no_error_log
[error]
[alert]

=== TEST 7: a worker that is killed: the next one takes its place, and knows what was shared
--- engine
kb: tls
--- run
define(opaque => opaque());
passes({ cert => 'client', token => 'opaque' }, 'before');
forget();
# What a fault ends in; SIGSEGV itself a sanitizer would take.
for my $signal (qw(KILL ABRT)) {
    my @old = children();
    is(scalar @old, 2, 'two workers');
    kill $signal => @old;
    ok(until_true(10, sub { my @now = children(); @now == 2 && !grep { my $pid = $_; grep { $_ == $pid } @old } @now }), "$signal: two new ones");
    passes({ cert => 'client', token => 'opaque' }, "$signal: own certificate");
    refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', "$signal: of a thief");
}
is(scalar(introspections()), 0, 'nothing was asked');
--- error_log
exited on signal 9
exited on signal 6
--- no_error_log
[error]

=== TEST 8: a worker that is killed while it fetches for all: the others have their answer from elsewhere
--- engine
kb: keys { "timeout": 3000 }
--- run
named_token('as:client');
forget();
as_control('/hang', { ms => 1500, path => '/jwks' });
my @waiting = started(map { { cert => 'client', token => 'as:client' } } 1 .. 6);
pause(0.4);
my ($one) = children();
kill KILL => $one;
as_control('/hang', { ms => 0 });
my %count;
$count{$_}++ for split ' ', statuses(@waiting);
ok(!grep({ !/^(?:200|-)$/ } keys %count), 'answered, or cut with their worker: ' . json(\%count));
ok(until_true(12, sub { call(cert => 'client', token => 'as:client')->{status} == 200 }), 'afterwards');
ok(until_true(5, sub { children() == 2 }), 'two workers');
is(json([ at_once(10, ({ cert => 'client', token => 'as:client' }, { cert => 'thief', token => 'as:client' }) x 2) ]), '[{"200":10},{"401":10},{"200":10},{"401":10}]', 'in both');
--- timeout: 40
--- error_log
exited on signal 9

=== TEST 9: a binary upgrade under load: every request is decided right, and there is one master in the end
--- run
my $old = master();
my @traffic = traffic(400, map { { cert => $_, token => 'bound', rate => 150 } } qw(client thief client thief));
pause(0.3);
my $pidfile = "$ENV{TEST_NGINX_SERVROOT}/logs/nginx.pid";
kill USR2 => $old;
ok(until_true(10, sub { -e "$pidfile.oldbin" && -s $pidfile && master() != $old && children() == 2 }), 'the new master has workers');
my $new = master();
pause(0.3);
kill WINCH => $old;
ok(until_true(10, sub { !children($old) }), 'the old one has none');
pause(0.3);
kill QUIT => $old;
ok(until_true(10, sub { !kill 0 => $old }), 'the old one is gone');
is(json([ landed(@traffic) ]), '[{"200":400},{"401":400},{"200":400},{"401":400}]', 'each by its certificate');
is(master(), $new, 'the new one stays');
passes({ cert => 'client', token => 'bound' }, 'it serves');
refuses({ cert => 'thief', token => 'bound' }, '401 invalid_token certificate_mismatch', 'and refuses');
--- timeout: 40
--- no_error_log
[error]
[alert]
[emerg]
exited on signal

=== TEST 10: an upgrade that is taken back: the old master serves again
--- run
my $old = master();
my $pidfile = "$ENV{TEST_NGINX_SERVROOT}/logs/nginx.pid";
kill USR2 => $old;
ok(until_true(10, sub { -e "$pidfile.oldbin" && -s $pidfile && master() != $old && children() == 2 }), 'the new master');
my $new = master();
kill QUIT => $new;
ok(until_true(10, sub { !kill(0 => $new) && master() == $old }), 'it is gone');
for (1 .. 4) {
    passes({ cert => 'client', token => 'bound' }, 'the old one serves');
    refuses({ cert => 'thief', token => 'bound' }, '401 invalid_token certificate_mismatch', 'and refuses');
}
--- no_error_log
[error]
[alert]
[emerg]
exited on signal

=== TEST 11: master_process off: one process, with fetches and a zone; what counts in it survives a reload
--- engine
kb: tls
--- run
second_start(sub { s/master_process on/master_process off/ });
define(opaque => opaque());
on_second(sub {
    passes({ cert => 'client', token => 'opaque' }, 'own certificate');
    refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'of a thief');
    my $pid = read_file("$RUN/second/logs/nginx.pid") + 0;
    is(scalar(children($pid)), 0, 'no worker');
    # nginx itself forgets then that its port is of TLS.
    kill HUP => $pid;
    pause(1.5);
    ok(kill(0 => $pid), 'it is there');
    unlike(read_file("$RUN/second/logs/error.log"), qr/\[alert\]|\[emerg\]/, 'and has nothing to complain of');
});
second_stop();

=== TEST 12: nginx ends with requests under way: gracefully they are answered
--- engine
kb: keys
--- tls
location / { proxy_pass http://$PLAIN; }
--- run
peer_script({ '*' => { body => 'passed' } }, 'plain');
second_start();
named_token('as:client');
on_second(sub {
    as_control('/hang', { ms => 900, path => '/jwks' });
    my @waiting = started(map { { cert => $_, token => 'as:client' } } qw(client thief));
    pause(0.3);
    my $pid = read_file("$RUN/second/logs/nginx.pid") + 0;
    kill QUIT => $pid;
    is(statuses(@waiting), '200 401', 'answered');
    ok(until_true(5, sub { !kill 0 => $pid }), 'it is gone');
    unlike(read_file("$RUN/second/logs/error.log"), qr/\[alert\]|exited on signal/, 'quietly');
});
as_control('/hang', { ms => 0 });
second_stop();

=== TEST 13: nginx -T, -t and a reload leave no memory segment and no open file behind
--- run
my $files = sub { my $pid = master(); return scalar(() = glob "/proc/$pid/fd/*") };
ok(hup(), 'reloaded');
my $gone = sub { !grep { ((eval { read_file($_) }) // '') =~ /worker process is shutting down/ } glob '/proc/[0-9]*/cmdline' };
until_true(20, $gone);
my $before = $files->();
ok(hup(), 'reloaded') for 1 .. 4;
ok(until_true(20, sub { $files->() == $before }), 'as many open files');
is(scalar(() = glob '/dev/shm/*keybound*'), 0, 'no segment has a name');
--- no_error_log
[error]
[alert]
