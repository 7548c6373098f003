# The shared store: in a shared dict of nginx, and in a real Redis.
use Keybound;
use Test::Nginx::Socket 'no_plan';

our %PORTS;
@PORTS{qw(REDIS TLS_REDIS CLOSED)} = Keybound::_free_ports(3);

# A server with a password, a user and TLS; `restart` of it is to begin anew.
my $redis;

sub stop_redis {
    return unless $redis;
    kill 'TERM', $redis;
    waitpid $redis, 0;
    $redis = undef;
}

sub start_redis {
    my @more = @_;
    stop_redis();
    defined($redis = fork) or die "fork: $!\n";
    if ($redis == 0) {
        open STDOUT, '>', "$RUN/redis.log";
        no warnings 'exec';
        exec qw(redis-server --bind 127.0.0.1 --port), $PORTS{REDIS}, '--tls-port', $PORTS{TLS_REDIS}, '--dir', $RUN,
            '--save', '', '--unixsocket', "$RUN/redis.sock", '--unixsocketperm', '777', '--requirepass', 'secret',
            '--tls-cert-file', "$PKI/as.crt", '--tls-key-file', "$PKI/as.key", '--tls-ca-cert-file', "$PKI/ca.crt",
            '--tls-auth-clients', 'no', qw(--user app on >apppass ~app:* +@all), @more;
        POSIX::_exit(127);
    }
    for (1 .. 100) {
        return if redis_cli('PING') =~ /PONG/;
        select undef, undef, undef, 0.05;
    }
    die "redis-server does not start\n", read_file("$RUN/redis.log");
}

sub redis_cli { return (command('', qw(redis-cli --no-auth-warning -h 127.0.0.1 -a secret -p), $PORTS{REDIS}, @_))[1] }

sub redis_pid { return $redis }

my $pid = $$;
END { local $?; stop_redis() if $$ == $pid }

chmod 0755, $RUN;
start_redis();

# Sections: `lua`, what /t does; `expected`, lines that it answers. The names of %PORTS, $PKI and $RUN are replaced in `lua`.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOC') unless defined $block->engine;
store = require "resty.keybound.store"
function redis(more)
    local spec = { host = "127.0.0.1", port = $REDIS, password = "secret", connect_timeout = 1000, timeout = 1000 }
    for name, value in pairs(more or {}) do
        spec[name] = value
        if value == ngx.null then spec[name] = nil end
    end
    return assert(store.new { redis = spec })
end
function say(...)
    local values = { ... }
    for i = 1, select("#", ...) do values[i] = tostring(values[i]) end
    ngx.say(table.concat(values, " "))
end
EOC
    my $lua = $block->lua // '';
    my $engine = $block->engine;
    for ($lua, $engine) {
        s/\$PKI\b/$PKI/g;
        s/\$RUN\b/$RUN/g;
        s/\$(@{[ join '|', keys %PORTS ]})\b/$PORTS{$1}/g;
    }
    $block->set_value(engine => $engine);
    $block->set_value(http_config => "lua_shared_dict keybound 128k;\nlua_shared_dict small 12k;\nlua_shared_dict other 64k;\n" . ($block->http_config // ''));
    $block->set_value(config => ($block->config // '') . "location /t { lua_ssl_trusted_certificate $PKI/ca.crt;\n content_by_lua_block { $lua } }\n");
    $block->set_value(run => 'says(' . join(', ', map { 'q{' . s/\$(@{[ join '|', keys %PORTS ]})\b/$PORTS{$1}/gr . '}' } split /\n/, $block->expected) . ');')
        unless defined $block->run;
});

# says(LINE...): what /t answers
sub says {
    my @expected = @_;
    is(call(plain => 1, path => '/t')->{body}, join('', map { "$_\n" } @expected), 'answer');
}

run_tests();

__DATA__

=== TEST 1: all operations, in a dict and in Redis alike
--- lua
for _, s in ipairs { assert(store.new "keybound"), redis() } do
    local key, value = "k\0\r\n\255", "v\0\r\n$5\r\n\255"
    say(s:get(key))
    say(s:add(key, value, 60))
    say(s:add(key, "other", 60))
    local answer, got = s:get(key)
    say(answer, got == value)
    say(s:put(key, "", 60))
    answer, got = s:get(key)
    say(answer, #got)
    say(s:delete(key))
    say(s:delete(key))
    say(s:get(key))
    say(s:put(key, value, 60))
    answer, got = s:get(key)
    say(answer, got == value)
    say(s:delete(key))
    local large = ("x"):rep(20000)
    say(s:add("large", large, 60))
    answer, got = s:get("large")
    say(answer, got == large)
    say(s:delete("large"))
end
--- run
my @each = ('absent', 'stored', 'exists', 'found true', 'stored', 'found 0', 'stored', 'stored', 'absent', 'stored', 'found true', 'stored',
    'stored', 'found true', 'stored');
says(@each, @each);
--- no_error_log
[error]

=== TEST 2: lifetimes end
--- lua
for _, s in ipairs { assert(store.new "keybound"), redis() } do
    say(s:add("a", "1", 1), s:put("b", "2", 1.5), s:add("c", "3", 60))
    ngx.sleep(1.1)
    say(s:get("a"), s:add("a", "4", 60))
    say(s:get("b"))
    ngx.sleep(0.6)
    say(s:get("b"))
    say(s:get("c"))
    s:delete("a")
    s:delete("c")
end
--- run
says(('stored stored stored', 'absent stored', 'found 2', 'absent', 'found 3') x 2);
--- timeout: 20
--- no_error_log
[error]

=== TEST 3: what is not stored at all
--- lua
for _, s in ipairs { assert(store.new "keybound"), redis() } do
    for _, ttl in ipairs { 0, -1, 0.5, 0 / 0, 2 ^ 32, "60" } do say(s:add("k", "v", ttl)) end
    say(s:put("k", "v", 0))
    say(s:put("k", nil, 60))
    say(s:add("", "v", 60))
    say(s:get())
    say(s:delete(1))
    say(s:get("k"))
end
--- run
my $ttl = 'failed the lifetime must be a number of seconds, 1 or more';
my $key = 'failed the key must be a string that is not empty';
says((($ttl) x 7, 'failed the value must be a string', ($key) x 3, 'absent') x 2);
--- no_error_log
[error]

=== TEST 4: a full dict fails: what lives is never evicted
--- lua
local s = assert(store.new "other")
local n, answer, err = 0, nil, nil
repeat
    answer, err = s:add("key" .. n, ("v"):rep(500), 60)
    n = n + 1
until answer ~= "stored" or n > 10000
say(answer, err)
say(n > 30)
say(s:put("more", ("v"):rep(500), 60))
local lost = 0
for i = 0, n - 2 do if s:get("key" .. i) ~= "found" then lost = lost + 1 end end
say("lost", lost)
say((s:add("key0", ("v"):rep(500), 60)))
-- Room for one.
say(s:delete("key0"))
say(s:add("key0", ("v"):rep(500), 60))
--- expected
failed `lua_shared_dict other` is full: make it larger
true
failed `lua_shared_dict other` is full: make it larger
lost 0
exists
stored
stored
--- no_error_log
[error]

=== TEST 5: a full dict has room again from what expired, behind what lives
--- lua
local s = assert(store.new "other")
local n = 0
repeat n = n + 1 until s:add("short" .. n, ("v"):rep(500), 1) ~= "stored" or n > 10000
for i = 1, 4 do say(s:delete("short" .. i)) end
local kept = 0
repeat kept = kept + 1 until s:add("long" .. kept, ("v"):rep(500), 60) ~= "stored" or kept > 100
say(kept > 1)
ngx.sleep(2.1)
for i = 1, 20 do if s:add("new" .. i, ("v"):rep(500), 60) ~= "stored" then say("failed at ", i) end end
local lost = 0
for i = 1, kept - 1 do if s:get("long" .. i) ~= "found" then lost = lost + 1 end end
say("lost", lost)
--- expected
stored
stored
stored
stored
true
lost 0
--- timeout: 20
--- no_error_log
[error]

=== TEST 6: refused when it is made
--- lua
local function try(spec)
    local ok, err = store.new(spec)
    ngx.say(ok and "accepted" or (err:gsub("^keybound.store: ", "")))
end
local function options(o) try { redis = o } end
try "none"
try "small"
try(nil)
try(1)
try {}
try { redis = 1 }
try { redis = { host = "a" }, dict = "keybound" }
options {}
options { host = "a", unix = "/s" }
options { unix = "/s", port = 1 }
options { hots = "a" }
options { host = 1 }
options { host = "a", port = "6379" }
options { host = "a", port = 0 }
options { host = "a", port = 1.5 }
options { host = "a", timeout = 0 }
options { host = "a", database = -1 }
options { host = "", }
options { host = "a", username = "u" }
options { host = "a", ssl = 1 }
options { host = "a", ssl_verify = false }
options { host = "127.0.0.1", ssl = true }
options { unix = "/s", ssl = true }
options { host = "127.0.0.1", ssl = true, server_name = "localhost" }
options { host = "127.0.0.1", ssl = true, ssl_verify = false }
--- run
my @lines = split /\n/, call(plain => 1, path => '/t')->{body};
is_deeply(\@lines, [
    'no `lua_shared_dict none`; put `lua_shared_dict none 10m;` into the http block',
    '`lua_shared_dict small` is too small: 12288 bytes; 64k is the least',
    ('expect the name of a lua_shared_dict, or a table with redis') x 3,
    'redis: must be a table',
    'dict: unknown option; there is redis',
    'redis.host: required, or unix',
    'redis.unix: excludes host and port',
    'redis.unix: excludes host and port',
    'redis.hots: unknown option; there are connect_timeout, database, host, keepalive, password, pool_size, port, prefix, server_name, ssl, ssl_verify, timeout, unix, username',
    'redis.host: must be a string',
    'redis.port: must be a number',
    ('redis.port: must be a whole number from 1 to 65535') x 2,
    'redis.timeout: must be a whole number from 1 to 60000',
    'redis.database: must be a whole number from 0 to 65535',
    'redis.host: must not be empty',
    'redis.username: needs password',
    'redis.ssl: must be a boolean',
    'redis.ssl_verify: needs ssl = true',
    ('redis.server_name: required, as the certificate is verified and there is no host name') x 2,
    ('accepted') x 2,
], 'messages') or diag(join "\n", @lines);
--- no_error_log
[error]

=== TEST 7: ways to Redis: name, socket, user, database, TLS, prefix
--- lua
local function try(more)
    local s = redis(more)
    s:delete("k")
    local added, err = s:add("k", "v", 60)
    say(added, err or s:add("k", "v", 60), s.pool.pool:find("secret", 1, true) or s.pool.pool:find("apppass", 1, true))
    return s
end
try()
try { host = "localhost", prefix = "a:" }
try { host = ngx.null, port = ngx.null, unix = "$RUN/redis.sock", prefix = "b:" }
try { username = "app", password = "apppass", prefix = "app:" }
try { username = "app", password = "apppass", prefix = "c:" }
try { database = 3 }
try { port = $TLS_REDIS, ssl = true, host = "localhost", prefix = "d:" }
try { port = $TLS_REDIS, ssl = true, server_name = "localhost", prefix = "e:" }
try { port = $TLS_REDIS, ssl = true, server_name = "other.test", prefix = "f:" }
try { port = $TLS_REDIS, ssl = true, ssl_verify = false, prefix = "g:" }
try { password = "wrong" }
try { password = ngx.null }
try { prefix = "" }
--- run
my @lines = split /\n/, call(plain => 1, path => '/t')->{body};
my $at = "failed redis 127.0.0.1:$PORTS{REDIS}:";
my $tls = "failed redis 127.0.0.1:$PORTS{TLS_REDIS}:";
my $paused = 'not asked, it failed a moment ago:';
my ($noperm, $mismatch, $wrong, $noauth) = ("NOPERM this user has no permissions to access one of the keys used as arguments",
    'TLS: certificate host mismatch', 'AUTH: WRONGPASS invalid username-password pair or user is disabled.', 'NOAUTH Authentication required.');
s/No permissions to access a key/this user has no permissions to access one of the keys used as arguments/ for @lines;
is(shift @lines, $_) for ('stored exists nil') x 4;
is(shift @lines, "$at $paused $noperm nil");
is(shift @lines, $_) for ('stored exists nil') x 3;
# Where the handshake ends without waiting, the message is that of an assertion.
like(shift @lines, qr/^\Q$tls $paused\E (?:\Q$mismatch\E|TLS: .*assertion failed!) nil$/);
is(shift @lines, 'stored exists nil');
is(shift @lines, "$at $paused $wrong nil");
is(shift @lines, "$at $paused $noauth nil");
is(shift @lines, 'stored exists nil');
is(redis_cli('--raw', 'KEYS', '*') =~ s/\n/ /gr =~ tr/ //, 8, 'keys in database 0');
is(redis_cli('-n', '3', 'KEYS', '*'), "keybound:k\n", 'database 3');

=== TEST 8: one connection for many commands; another password, another connection
--- lua
local s = redis { pool_size = 1 }
for i = 1, 50 do s:put("k" .. i % 3, "v", 60) end
say("done")
local wrong = redis { pool_size = 1, password = "wrong" }
say((wrong:get("k1")))
say((redis { pool_size = 1, database = 1 }:get("k1")))
say((s:get("k1")))
--- run
my ($before) = redis_cli('INFO', 'stats') =~ /total_connections_received:(\d+)/;
says('done', 'failed', 'absent', 'found');
my ($after) = redis_cli('INFO', 'stats') =~ /total_connections_received:(\d+)/;
is($after - $before, 3 + 1, 'connections, with that of redis-cli');

=== TEST 9: no Redis costs nothing but the first attempt, for a second
--- lua
local s = redis { port = $CLOSED }
say(s:add("k", "v", 60))
ngx.update_time()
local start = ngx.now()
for _ = 1, 1000 do if s:get("k") ~= "failed" then say("wrong") end end
say(s:put("k", "v", 60))
say(s:delete("k"))
ngx.update_time()
say(ngx.now() - start < 0.2)
s.port = $REDIS
ngx.sleep(1.1)
say(s:add("after the pause", "v", 60))
say(s:delete("after the pause"))
--- expected
failed redis 127.0.0.1:$CLOSED: connect: connection refused
failed redis 127.0.0.1:$CLOSED: not asked, it failed a moment ago: connect: connection refused
failed redis 127.0.0.1:$CLOSED: not asked, it failed a moment ago: connect: connection refused
true
stored
stored

=== TEST 10: a Redis that hangs is given up after the timeout; its late answer is nobody's
--- lua
local s = redis { timeout = 200, pool_size = 1 }
say(s:put("k", "first", 60))
ngx.update_time()
local start = ngx.now()
os.execute("kill -STOP $(cat $RUN/redis.pid)")
say(s:get("k"))
ngx.update_time()
local took = ngx.now() - start
say(took >= 0.2 and took < 0.8)
os.execute("kill -CONT $(cat $RUN/redis.pid)")
ngx.sleep(1.1)
say(s:put("other", "second", 60))
say(s:get("other"))
say(s:get("k"))
--- init
write_file("$RUN/redis.pid", main::redis_pid());
--- run
says('stored', "failed redis 127.0.0.1:$PORTS{REDIS}: timeout", 'true', 'stored', 'found second', 'found first');

=== TEST 11: one answer that is late, however many wait for it, is no reason to leave Redis alone; a second one that was asked for behind it is
--- lua
local s = redis { timeout = 200 }
say(s:put("k", "v", 60))
local function look() return s:get("k") end
os.execute("kill -STOP $(cat $RUN/redis.pid)")
local threads = {}
for i = 1, 5 do threads[i] = ngx.thread.spawn(look) end
local late = 0
for i = 1, 5 do
  local _, answer, err = ngx.thread.wait(threads[i])
  late = late + (answer == "failed" and err:find("timeout$") and 1 or 0)
end
say(late)
os.execute("kill -CONT $(cat $RUN/redis.pid)")
say(s:get("k"))
os.execute("kill -STOP $(cat $RUN/redis.pid)")
say((s:get("k")))
say((s:get("k")))
os.execute("kill -CONT $(cat $RUN/redis.pid)")
say(s:get("k"))
ngx.sleep(1.1)
say(s:get("k"))
--- init
write_file("$RUN/redis.pid", main::redis_pid());
--- run
says('stored', '5', 'found v', 'failed', 'failed', "failed redis 127.0.0.1:$PORTS{REDIS}: not asked, it failed a moment ago: AUTH: timeout", 'found v');

=== TEST 12: a connection that died in the pool is no reason either
--- lua
local s = redis()
say(s:put("k", "v", 60))
-- Nobody notices while this blocks the worker.
os.execute("redis-cli --no-auth-warning -h 127.0.0.1 -a secret -p $REDIS CLIENT KILL TYPE normal >/dev/null")
local answer, err = s:get("k")
say(answer, (err:find("closed", 1, true) or err:find("reset", 1, true) or err:find("broken pipe", 1, true)) ~= nil)
say(s.failed_at, s.retry_at)
say(s:get("k"))
--- expected
stored
failed true
nil 0
found v

=== TEST 13: replies that are errors: read-only, of another type, loading, full
--- lua
local s = redis()
say(s:put("k", "v", 60))
say(s:get("list"))
--- run
redis_cli('RPUSH', 'keybound:list', 'x');
my $at = "failed redis 127.0.0.1:$PORTS{REDIS}:";
says('stored', "$at WRONGTYPE Operation against a key holding the wrong kind of value");
start_redis('--maxmemory', '1');
like(call(plain => 1, path => '/t')->{body}, qr/^\Q$at\E OOM command not allowed.*\n\Q$at\E not asked, it failed a moment ago: OOM/, 'full');
start_redis('--replicaof', "127.0.0.1 $PORTS{CLOSED}");
like(call(plain => 1, path => '/t')->{body}, qr/^\Q$at\E READONLY You can't write against a read only replica/, 'read-only');
start_redis();
says('stored', 'absent');

=== TEST 14: what is no Redis
--- lua
local s = redis { password = ngx.null, port = $TLS_REDIS }
say((s:get("k")))
s = redis { password = ngx.null, port = tonumber(ngx.var.server_port) }
say((s:add("k", "v", 60)))
--- expected
failed
failed
