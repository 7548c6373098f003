# Faults of clients and of the host: who goes away in the middle, takes nothing from others.
use Keybound;
use Faults;
use Test::Nginx::Socket 'no_plan';

our $GONE = '503 - introspection_unavailable';
our $OK = '200';

# waited(TOKEN, SECONDS): a client that waits so long; abandoned(TOKEN, SECONDS): one that is gone then, without a word
sub waited {
    my ($token, $seconds, @by) = @_;
    my ($curl, @words) = Keybound::_curl_words(cert => 'client', authorization => "Bearer $token");
    return Keybound::start_command('', @by, $curl, @words, '--max-time', $seconds, '-o', '/dev/null', '-w', '%{http_code}');
}
sub abandoned { my ($token, $seconds) = @_; return waited($token, 10, 'timeout', '-s', 'KILL', $seconds) }

sub statuses { return join ' ', map { (Keybound::finish_command($_))[1] || 'gone' } @_ }

run_tests();

__DATA__

=== fault 35: a client goes away while the server is asked: the others get their answer, the worker lives
--- run
my ($token, $worker) = (opaque(), worker());
peer_script({ '/introspect' => [{ wait => 1000 }, active()] });
my $asked = requests();
my @first = (abandoned($token, 0.4), waited($token, 0.4));
select undef, undef, undef, 0.1;
my @others = map { waited($token, 5) } 1 .. 3;
is(statuses(@others), '200 200 200', 'those who asked for the same');
is(statuses(@first), 'gone 000', 'the first went away');
is(requests() - $asked, 1, 'it was one request');
peer_script({ '/introspect' => active() });
ask(opaque(), $OK, 'another token');
is(worker(), $worker, 'the same worker');
cmp_ok(peer_log()->{connections}, '<=', 3, 'connections are used again');
--- no_error_log
[error]
[alert]
[crit]

=== fault 35: likewise where nginx ends the request of a client that went away (499)
--- http_config
lua_check_client_abort on;
--- run
my ($token, $worker) = (opaque(), worker());
peer_script({ '/introspect' => [{ wait => 1000 }, active()] });
my $asked = requests();
my @first = abandoned($token, 0.4);
select undef, undef, undef, 0.1;
my @others = map { waited($token, 5) } 1 .. 3;
is(statuses(@others), '200 200 200', 'those who asked for the same');
is(statuses(@first), 'gone', 'the first went away');
is(requests() - $asked, 1, 'it was one request');
ask(opaque(), $OK, 'another token');
is(worker(), $worker, 'the same worker');
like(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/access.log"), qr/" 499 /, 'nginx noticed');
--- no_error_log
[error]
[alert]
[crit]

=== fault 35: what was asked for somebody who went away is not the answer to who asks later
--- http_config
lua_check_client_abort on;
--- engine
kb = asking { introspection_cache_ttl = 0 }
--- run
my $token = opaque();
peer_script({ '/introspect' => { turns => [[{ wait => 700 }, active()], inactive()] } });
my $asked = requests();
is(statuses(abandoned($token, 0.3)), 'gone', 'the only one went away');
select undef, undef, undef, 1;
ask($token, '401 invalid_token token_inactive', 'asked again: revoked in the meantime');
is(requests() - $asked, 2, 'the server was asked again');
--- no_error_log
[error]
[alert]
[crit]

=== fault 35: many who go away: nothing of theirs is kept, and nobody waits for them
--- http_config
lua_check_client_abort on;
--- run
my $token = opaque();
# Fill all turns with requests that hang, and let others wait for theirs; all of them go away.
peer_script({ '/introspect' => { hang => \1 } });
my @tokens = map { opaque() } 1 .. 90;
my @gone = map { my $t = $_; select undef, undef, undef, 0.005; abandoned($t, 1) } @tokens, $tokens[-1], $tokens[-1];
statuses(@gone);
select undef, undef, undef, 2.5;
peer_script({ '/introspect' => active() });
for my $i (0, 1, 63, 64, 70, 88, 89) {
    my $from = Time::HiRes::time();
    ask($tokens[$i], $OK, "token $i");
    cmp_ok(Time::HiRes::time() - $from, '<', 1, "token $i: at once");
}
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 35: what was asked for those who went away is not kept
--- http_config
lua_check_client_abort on;
--- config
location /collect { content_by_lua_block { local n = 0 for _ in pairs(kb.flights) do n = n + 1 end collectgarbage() collectgarbage() ngx.say(n) } }
--- run
peer_script({ '/introspect' => [{ wait => 600 }, { %{ inactive() }, pad => 0.19 }] });
sub wave {
    statuses(map { abandoned(opaque(), 0.4) } 1 .. 20) for 1 .. $_[0];
    select undef, undef, undef, 0.7;
    is(call(plain => 1, path => '/collect')->{body}, "0\n", 'nothing is kept of requests that ended');
    return resident();
}
my $before = wave(5);
my $asked = requests();
my $grown = wave(5) - $before;
$asked = requests() - $asked;
diag("resident memory of the worker: $before KiB, and $grown KiB more after $asked abandoned requests with answers of 190 KiB");
cmp_ok($asked, '>', 50, 'they were asked about');
--- timeout: 60
--- no_error_log
[alert]
[crit]

=== timers that nginx promises and drops cost a second, and nothing afterwards
--- http_config
lua_max_running_timers 16;
--- tls
        location = /hold { content_by_lua_block {
            for _ = 1, 16 do ngx.timer.at(0, function() ngx.sleep(3) end) end
            ngx.sleep(0.1)
            ngx.say("held")
        } }
        location = /state { content_by_lua_block {
            local flights = 0
            for _ in pairs(kb.flights) do flights = flights + 1 end
            ngx.say(kb.running, " ", #kb.queue, " ", flights)
        } }
        location / {
            access_by_lua_block { kb:access() }
            content_by_lua_block { ngx.say("passed") }
        }
--- run
sub state { return call(cert => '-', token => '-', path => '/state')->{body} }
peer_script({ '/introspect' => active() });
is(call(cert => '-', token => '-', path => '/hold')->{status}, 200, 'all timers are taken');
my @first = map { waited(opaque(), 10) } 1 .. 80;
is(statuses(@first), join(' ', ('200') x 80), 'everybody gets an answer, if late');
select undef, undef, undef, 3;
for (1 .. 3) {
    my $from = Time::HiRes::time();
    ask(opaque(), $OK, 'afterwards');
    cmp_ok(Time::HiRes::time() - $from, '<', 0.9, 'at once');
}
is(state(), "0 0 0\n", 'nothing is left');
