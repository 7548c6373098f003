# Faults of the shared store: nothing opens, nothing that is not known is taken for known; what is asked goes to the server again.
use Keybound;
use Faults;
use Test::Nginx::Socket 'no_plan';

our $OK = '200';
our $INACTIVE = '401 invalid_token token_inactive';
our $SECRET = 'x' x 32;

# Nothing is remembered in the worker: what is shared is looked for on every request.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = $block->engine // 'kb = asking({ token_cache_entries = 0, introspection_cache_ttl_neg = 0, store_secret = ("s"):rep(32) }, { store = { redis = { host = "127.0.0.1", port = $REDIS } } })';
    $block->set_value(engine => $engine);
});

sub redis_cli { return (command('', qw(redis-cli --no-auth-warning -h 127.0.0.1 -p), redis_start(), @_))[1] }

# state(WHAT): all that must hold whatever became of the store; the number of requests to the server for two good ones
sub state {
    my ($what) = @_;
    my ($good, $bad) = (opaque(), opaque());
    peer_script({ '/introspect' => { turns => [inactive(), active()] } });
    ask($bad, $INACTIVE, "$what: an inactive token");
    my $asked = requests();
    ask($good, $OK, "$what: a good one");
    ask($good, $OK, "$what: again");
    my $n = requests() - $asked;
    ask($good, '401 invalid_token certificate_mismatch', "$what: the thief", cert => 'thief');
    peer_script({ '/introspect' => { hang => \1 } });
    return $n;
}

sub pause { select undef, undef, undef, 1.2 }

run_tests();

__DATA__

=== fault 28: Redis is down at the start, comes, goes, and comes back
--- run
redis_stop();
is(state('down at the start'), 2, 'down at the start: the server is asked each time');
like(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log"), qr/keybound: the shared store failed: redis \S+: connect: connection refused/, 'the log says so');
redis_start();
pause();
is(state('it comes'), 1, 'it comes: the server is asked once');
redis_stop();
is(state('it goes'), 2, 'it goes: the server is asked each time');
redis_start();
pause();
is(state('it is back'), 1, 'it is back: the server is asked once');
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 28: a slow Redis costs its time and once in a while; requests are decided all the same
--- run
redis_start();
is(state('as usual'), 1, 'as usual: the server is asked once');
my ($pid) = redis_cli('INFO', 'server') =~ /process_id:(\d+)/;
kill 'STOP', $pid;
my $from = Time::HiRes::time();
my $n = eval { state('it hangs') };
my $took = Time::HiRes::time() - $from;
kill 'CONT', $pid;
is($n, 2, 'it hangs: the server is asked each time');
cmp_ok($took, '<', 2, 'four requests took, s');
pause();
is(state('it goes on'), 1, 'it goes on: the server is asked once');
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 28: Redis wants a password, holds another type, is a replica that takes nothing, is full, or holds what others wrote
--- run
redis_start();
redis_cli('FLUSHALL');
redis_cli('CONFIG', 'SET', 'requirepass', 'secret');
redis_cli('-a', 'secret', 'CLIENT', 'KILL', 'TYPE', 'normal');
is(state('NOAUTH'), 2, 'NOAUTH: the server is asked each time');
like(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log"), qr/the shared store failed: redis \S+: NOAUTH/, 'the log says so');
redis_cli('-a', 'secret', 'CONFIG', 'SET', 'requirepass', '');
pause();
my $token = opaque();
for (['another type', 'RPUSH', 'x'], ['a value of another', 'SET', 'x' x 200], ['an empty value', 'SET', '']) {
    my ($what, $command, $value) = @$_;
    redis_cli('FLUSHALL');
    $token = opaque();
    peer_script({ '/introspect' => { turns => [active(), inactive()] } });
    ask($token, $OK, "$what: before");
    is(redis_cli('DBSIZE'), "1\n", "$what: one is kept");
    ask($token, $OK, "$what: kept, without asking");
    # Keys are bytes: no command line takes them.
    redis_cli('EVAL', q{local k = redis.call("KEYS", "*")[1] redis.call("DEL", k) redis.call(ARGV[1], k, ARGV[2])}, 0, $command, $value);
    is(redis_cli('DBSIZE'), "1\n", "$what: it is there");
    ask($token, $INACTIVE, "$what: what is not ours is not used: the server is asked");
    pause();
}
# The value of one token under the key of another opens nothing.
redis_cli('FLUSHALL');
my @two = (opaque(), opaque());
peer_script({ '/introspect' => { turns => [active(), active(), inactive()] } });
ask($_, $OK, 'one of two') for @two;
ask($_, $OK, 'one of two, without asking') for @two;
redis_cli('EVAL', q{local k = redis.call("KEYS", "*") local a, b = redis.call("GET", k[1]), redis.call("GET", k[2])
    redis.call("SET", k[1], b) redis.call("SET", k[2], a)}, 0);
is(redis_cli('DBSIZE'), "2\n", 'exchanged');
ask($_, $INACTIVE, 'one of two, with the value of the other: the server is asked') for @two;
redis_cli('REPLICAOF', '127.0.0.1', $Faults::CLOSED);
is(state('READONLY'), 2, 'READONLY: the server is asked each time');
redis_cli('REPLICAOF', 'NO', 'ONE');
redis_cli('CONFIG', 'SET', 'maxmemory', '1');
pause();
is(state('full'), 2, 'full: the server is asked each time');
redis_cli('CONFIG', 'SET', 'maxmemory', '0');
pause();
is(state('as usual'), 1, 'as usual: the server is asked once');
--- timeout: 40
--- no_error_log
[alert]
[crit]

=== fault 30: the shared dict is full: nothing more is kept, and nothing that lives is lost
--- http_config
lua_shared_dict small 64k;
--- engine
kb = asking({ token_cache_entries = 0, introspection_cache_ttl_neg = 0 }, { store = "small" })
--- config
location /fill { content_by_lua_block {
    -- Large ones first: what is left has room for small ones.
    local n, err = 0
    for _, size in ipairs { 2000, 1000, 500, 250, 100, 40, 1 } do
        local ok
        repeat
            ok, err = ngx.shared.small:safe_set("fill" .. n + 1, ("v"):rep(size), 600)
            if ok then n = n + 1 end
        until not ok
    end
    ngx.say(n, " ", err)
} }
location /lost { content_by_lua_block {
    local lost = 0
    for i = 1, tonumber(ngx.var.arg_n) do if not ngx.shared.small:get("fill" .. i) then lost = lost + 1 end end
    ngx.say(lost)
} }
--- run
peer_script({ '/introspect' => active() });
my $kept = opaque();
ask($kept, $OK, 'kept before');
is(state('room'), 1, 'room: the server is asked once');
my ($n, $err) = call(plain => 1, path => '/fill')->{body} =~ /(\d+) (.*)/;
cmp_ok($n, '>', 10, 'filled');
is($err, 'no memory', 'until it is full');
is(state('full'), 2, 'full: the server is asked each time');
like(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log"), qr/the shared store failed: `lua_shared_dict small` is full: make it larger/, 'the log says so');
peer_script({ '/introspect' => active() });
ask(opaque(), $OK, "full: another token, $_") for 1 .. 20;
peer_script({ '/introspect' => { hang => \1 } });
ask($kept, $OK, 'what was kept before is still there');
is(call(plain => 1, path => "/lost?n=$n")->{body}, "0\n", 'nothing that lives was lost');
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 30: keys that cannot be kept are fetched by each worker, and locks that cannot be taken stop nobody
--- http_config
lua_shared_dict small 64k;
--- engine
kb = verifying({ keys_max_age = 1 }, { store = "small" })
--- config
location /fill { content_by_lua_block {
    local n, ok, err = 0
    repeat n = n + 1 ok, err = ngx.shared.small:safe_set("fill" .. n, "v", 600) until not ok
    ngx.say(n - 1, " ", err)
} }
--- run
call(plain => 1, path => '/fill');
peer_script({ '/jwks' => jwks_of('es') });
my $token = token(for => 'client', claims => { iss => $PEER });
ask($token, $OK, 'at first');
until_second(int(time) + 2);
ask($token, $OK, 'fetched again');
ask(token(for => 'client', key => 'rs256', claims => { iss => $PEER }), '401 invalid_token key_unknown', 'a key that is not there');
--- no_error_log
[alert]
[crit]

=== fault 31: a zone that is absent or too small: nginx does not start
--- engine
kb = asking()
--- run
my $modules = join "\n", map { "load_module $_;" } split ' ', $ENV{TEST_NGINX_LOAD_MODULES};
my $lib = $ENV{KEYBOUND_LIB} // (($ENV{CARGO_TARGET_DIR} // "$ROOT/target") . '/release');
my $lua = $ENV{KEYBOUND_LUA} // "$ROOT/lua";
for (['absent', '', '{ store = "shared" }', qr/no `lua_shared_dict shared`; put `lua_shared_dict shared 10m;` into the http block/],
    ['too small', 'lua_shared_dict shared 32k;', '{ store = "shared" }', qr/`lua_shared_dict shared` is too small: 32768 bytes; 64k is the least/],
    ['of the metrics, absent', '', '{ metrics = "shared" }', qr/metrics: no `lua_shared_dict shared`; put `lua_shared_dict shared 1m;` into the http block/],
    ['just large enough', 'lua_shared_dict shared 64k;', '{ store = "shared" }', undef]) {
    my ($what, $zone, $opts, $expected) = @$_;
    my $config = write_file("$RUN/refused.conf", <<"EOC");
$modules
pid $RUN/refused.pid;
error_log stderr;
daemon off;
master_process off;
events {}
http {
    lua_package_path "$lua/?.lua;;";
    lua_package_cpath "$lib/?.so;;";
    $zone
    init_by_lua_block {
        kb = assert(require("resty.keybound").new({ issuer = "https://as.test", jwks_uri = "https://as.test/jwks", audience_required = { "a" } }, $opts))
    }
}
EOC
    my ($status, $out, $err) = command('', 'timeout', 2, $ENV{TEST_NGINX_BINARY}, '-p', $RUN, '-e', 'stderr', '-c', $config);
    if ($expected) {
        is($status, 1, "$what: refused");
        like($err, $expected, "$what: it says what is to be done");
    } else {
        is($status, 124, "$what: it runs until it is ended") or diag($err);
    }
}
