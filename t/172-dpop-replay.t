# A proof is good for one request, of two workers and two gateways that share a Redis, under load, after reloads, and whatever becomes
# of the Redis or of the shared dict.
use Keybound;
use Dpop;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(4096);

# The engine NAME is behind the location /NAME. `shared {...}` keeps proofs in Redis, `dict(NAME, {...})` in a shared dict.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOL' . ($block->engine // 'kb = shared()'));
        local function made(store, more)
            local config = { proof_of_possession_dpop = "strict", public_origin = "https://api.test" }
            for name, value in pairs(more or {}) do
                config[name] = value
            end
            return engine(config, { store = store })
        end
        SECRET = ("s"):rep(32)
        function shared(more)
            more = more or {}
            more.store_secret = SECRET
            return made({ redis = { host = "127.0.0.1", port = $REDIS, connect_timeout = TIMEOUT or 1000, timeout = TIMEOUT or 1000 } }, more)
        end
        function dict(name, more) return made(name, more) end
        NONCE = ("nonce"):rep(8)
EOL
    $block->set_value(http_config => "keepalive_requests 100000;\nlua_shared_dict proofs 1m;\nlua_shared_dict small 64k;\nlog_format worker '\$pid';\naccess_log $RUN/access.log worker;\n");
    $block->set_value(schemes => 'DPoP');
    $block->set_value(tls => <<'EOC');
        location ~ ^/(\w+) {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
});

our $REPLAYED = '401 invalid_dpop_proof proof_replayed';
our $DOWN = '503 - store_unavailable';
our $TOKEN = 'jkt:phone';

# says(EXPECTED, NAME, %call): the answer
sub says {
    my ($expected, $name, %call) = @_;
    log_mark();
    my $response = call(%call);
    check($response, $expected, $name);
    return $response;
}
sub fresh { return sent('phone', $TOKEN, path => '/kb', @_) }
sub pause { select undef, undef, undef, $_[0] }
sub master { return Test::Nginx::Util::get_pid_from_pidfile('replay') }
sub second_master { return read_file("$RUN/second/logs/nginx.pid") + 0 }
sub worker_pids { my ($master) = @_; return sort split /\n/, (command('', 'pgrep', '-P', $master))[1] }
# Until none of the old workers is left.
sub reload {
    my ($master) = @_;
    my %old = map { $_ => 1 } worker_pids($master);
    kill HUP => $master or die "HUP: $!\n";
    for (1 .. 500) {
        my @now = worker_pids($master);
        return if @now == 2 && !grep { $old{$_} } @now;
        pause(0.02);
    }
    die "the workers stay\n";
}

# refuses_while(NAME, BREAK, MEND): commands for Redis
sub refuses_while {
    my ($what, $break, $mend) = @_;
    redis(qw(CONFIG SET maxmemory-policy noeviction));
    my %used = fresh();
    says('200', "before: a proof", %used);
    redis(@$break);
    my %waiting = fresh();
    says($DOWN, "$what: a proof", %waiting);
    like(log_since(), qr/\[error\].*keybound: the shared store failed: redis/, "$what: the log says so");
    pause(1.2);
    says($DOWN, "$what: again", %waiting);
    log_mark();
    isnt(call(%used)->{status}, 200, "$what: a used one");
    redis(@$mend);
    pause(1.2);
    says('200', "afterwards: the proof that was not judged", %waiting);
    says($REPLAYED, "afterwards: that one again", %waiting);
    says($REPLAYED, "afterwards: the used one", %used);
}

# used(CALL...): the statuses, counted; the calls go over few connections
sub used {
    my %count;
    while (my @some = splice @_, 0, 40) {
        $count{ $_->{status} // 0 }++ for calls_on_one_connection(@some);
    }
    return json(\%count);
}

run_tests();

__DATA__

=== TEST 1: rfc9449-11.1-b: a proof is good once over two gateways, also after both were reloaded
--- run
second_start();
my %proof = fresh();
says('200', 'the first one', %proof);
says($REPLAYED, 'the first one again', %proof) for 1 .. 4;
on_second(sub { says($REPLAYED, 'the second one', %proof) for 1 .. 4 });
my %other = fresh();
on_second(sub { says('200', 'the second one, another proof', %other) });
says($REPLAYED, 'the first one, that proof', %other) for 1 .. 4;
my %never = fresh();
reload($_) for master(), second_master();
on_second(sub { says($REPLAYED, 'after a reload: the second one', %$_) for \%proof, \%other });
says($REPLAYED, 'after a reload: the first one', %$_) for \%proof, \%other;
says('200', 'after a reload: one that was not used', %never);
on_second(sub { says($REPLAYED, 'after a reload: only once', %never) });
second_stop();
--- timeout: 30
--- no_error_log
[error]

=== TEST 2: rfc9449-8-a: nonces of one gateway are good at the other, and after reloads; a proof with one is good once
--- engine
kb = shared { dpop_use_nonce = true, dpop_nonce_secret = NONCE }
--- run
second_start();
my $nonce = header(says('401 use_dpop_nonce proof_nonce_missing', 'none', fresh()), 'DPoP-Nonce');
says('200', 'where it is from', fresh(proof => { nonce => $nonce }));
on_second(sub { says('200', 'the other gateway', fresh(proof => { nonce => $nonce })) });
reload($_) for master(), second_master();
my %proof = fresh(proof => { nonce => $nonce });
says('200', 'after a reload', %proof);
on_second(sub {
    says($REPLAYED, 'after a reload: that proof at the other gateway', %proof);
    says('200', 'after a reload: another one', fresh(proof => { nonce => $nonce }));
    my $own = header(says('401 use_dpop_nonce proof_nonce_invalid', 'not by either of them', fresh(proof => { nonce => $nonce =~ s/.$/A/r =~ s/^./B/r })), 'DPoP-Nonce');
    $nonce = $own;
});
says('200', "the other gateway's at the first one", fresh(proof => { nonce => $nonce }));
second_stop();
--- timeout: 30
--- no_error_log
[error]

=== TEST 3: rfc9449-11.1-b: 10,000 uses of one proof at once, by two workers of two gateways: one passes
--- engine
-- A thousand connections at once are more than a Redis has room for in its queue: the kernel tries again after a second.
TIMEOUT = 20000
kb = shared()
--- run
second_start();
write_file("$RUN/access.log", '');
my %proof = fresh();
my $from = Time::HiRes::time();
my @floods = (flooding(1250, 4, %proof), on_second(sub { flooding(1250, 4, %proof) }));
my $count = all_landed(@floods);
my $took = Time::HiRes::time() - $from;
diag(sprintf '10,000 in %.1f s', $took);
is(json($count), '{"200":1,"401":9999}', 'one passes');
my %workers = map { $_ => 1 } split /\n/, read_file("$RUN/access.log");
is(scalar keys %workers, 4, 'workers that answered');
second_stop();
--- timeout: 90
--- no_error_log
[error]
[crit]
[alert]

=== TEST 4: rfc9449-11.1-b: the same in the shared dict of one gateway
--- engine
kb = dict("proofs")
--- run
my %proof = fresh();
is(json(flood(1250, 4, %proof)), '{"200":1,"401":4999}', 'one passes');
--- timeout: 60
--- no_error_log
[error]
[crit]
[alert]

=== TEST 5: rfc9449-11.1-b: without a Redis nothing passes; when it is back, proofs that are good do
--- engine
kb = shared()
--- run
says('200', 'as usual', fresh());
my %used = fresh();
says('200', 'a proof', %used);
redis_stop();
says($DOWN, 'it is gone', fresh());
says($DOWN, 'it is gone: a used proof', %used);
my %waiting = fresh();
says($DOWN, 'it is gone: a proof for later', %waiting);
redis_start();
pause(1.2);
says('200', 'it is back', fresh());
# It was never used: the client may send it again as it is.
says('200', 'it is back: the proof that was not judged', %waiting);
says($REPLAYED, 'it is back: that one again', %waiting);
--- timeout: 30
--- no_error_log
[crit]
[alert]

=== TEST 6: rfc9449-11.1-b: a Redis that is full takes no proof: nothing passes
--- run
refuses_while('full', [ qw(CONFIG SET maxmemory 1) ], [ qw(CONFIG SET maxmemory 0) ]);
--- timeout: 30
--- no_error_log
[crit]
[alert]

=== TEST 7: rfc9449-11.1-b: a Redis that became a replica takes no proof: nothing passes
--- run
refuses_while('a replica', [ qw(REPLICAOF 127.0.0.1 1) ], [ qw(REPLICAOF NO ONE) ]);
--- timeout: 30
--- no_error_log
[crit]
[alert]

=== TEST 8: rfc9449-11.1-b: a Redis without the replicas that it wants takes no proof: nothing passes
--- run
refuses_while('alone', [ qw(CONFIG SET min-replicas-to-write 1) ], [ qw(CONFIG SET min-replicas-to-write 0) ]);
--- timeout: 30
--- no_error_log
[crit]
[alert]

=== TEST 9: rfc9449-11.1-b: a Redis that is slow: nothing passes twice, whether its answer comes or not
--- engine
TIMEOUT = 200
kb = shared()
--- run
says('200', 'as usual', fresh());
my ($pid) = redis('INFO', 'server') =~ /process_id:(\d+)/;
kill 'STOP', $pid;
my %proof = fresh();
my $from = Time::HiRes::time();
eval { says($DOWN, 'it hangs', %proof); says($DOWN, 'it hangs: again', %proof); 1 } or diag($@);
my $took = Time::HiRes::time() - $from;
kill 'CONT', $pid;
cmp_ok($took, '<', 1.5, 'two requests took, s');
pause(1.2);
# What was asked arrived, and so the proof is used, though nobody had anything from it.
is(join(' ', map { call(%proof)->{status} } 1 .. 3), '401 401 401', 'it goes on: that proof');
says('200', 'it goes on: another one', fresh());
--- timeout: 30
--- no_error_log
[crit]
[alert]

=== TEST 10: insecure_dpop_replay: proofs pass without a store, and the log says so
--- engine
kb = shared { insecure_dpop_replay = true }
strict = shared()
--- run
my %used = fresh();
says('200', 'as usual', %used);
says($REPLAYED, 'as usual: used', %used);
redis_stop();
my %other = fresh();
log_mark();
is(call(%$_)->{status}, 200, 'it is gone') for \%used, \%other, \%other;
like(log_since(), qr/\[error\].*keybound: the shared store failed: redis/, 'the log says so');
is(scalar(() = log_since() =~ /keybound: note, .*detail=the proof is not remembered \(insecure_dpop_replay\)/g), 3, 'the log names each request');
# Everything else is checked as ever.
says('401 invalid_token proof_key_mismatch', 'another key', sent('thief', $TOKEN, path => '/kb'));
says('401 invalid_dpop_proof proof_expired', 'an old proof', fresh(proof => { iat => -70 }));
says($DOWN, 'without the option', sent('phone', $TOKEN, path => '/strict'));
redis_start();
pause(1.2);
says('200', 'it is back', %other);
says($REPLAYED, 'it is back: used', %other);
--- timeout: 30
--- no_error_log
[crit]
[alert]

=== TEST 11: rfc9449-11.1-b: a shared dict that is full takes no more, forgets nothing, and has room again when proofs end
--- engine
kb = dict("small", { dpop_proof_lifetime = 10, dpop_proof_leeway = 0 })
--- run
log_mark();
my $from = Time::HiRes::time();
my (@passed, @refused);
until (@refused || @passed > 2000) {
    my @calls = map { { fresh() } } 1 .. 40;
    my @responses = calls_on_one_connection(@calls);
    push @{ $responses[$_]{status} == 200 ? \@passed : \@refused }, $calls[$_] for 0 .. $#calls;
}
my $filled = Time::HiRes::time();
cmp_ok(scalar @passed, '>', 300, 'proofs in 64k');
is(used(@refused), json({ 503 => scalar @refused }), 'it is full');
like(log_since(), qr/keybound: the shared store failed: `lua_shared_dict small` is full: make it larger/, 'the log says so');
is(used(@passed), json({ 401 => scalar @passed }), 'each of those that it has is known');
cmp_ok(Time::HiRes::time() - $from, '<', 9, 'all that while the first of them were good, s');
pause($filled + 12 - Time::HiRes::time());
is(used(map { { fresh() } } 1 .. @passed), json({ 200 => scalar @passed }), 'they ended: as many find room again');
--- timeout: 60
--- no_error_log
[crit]
[alert]
