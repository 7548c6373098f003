# What workers and gateways share: introspections, keys, and requests that are under way. Two workers, and a second nginx on one Redis.
use Keybound;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

our $SECRET = 'a secret of all gateways, of 32 characters or more';

# `engine` may use `as`: an engine that introspects as `gateway`, on the store `shared` or on another; `rd`: on Redis. Each engine NAME is
# behind the location /NAME.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = $block->engine =~ s/GONE_PORT/our $gone_port/ger;
    $block->set_value(engine => <<"EOL" . $engine);
        function as(more, opts)
            local config = { issuer = "\$AS", jwks = cjson.null, ssl_trusted_certificate = "\$PKI/ca.crt", client_id = "gateway", client_auth = "tls_client_auth",
                tls_client_auth_cert_id = "gateway", client_certificates = { gateway = { certificate = "\$PKI/gateway.crt", private_key = "\$PKI/gateway.key" } },
                timeout = 10000, read_timeout = 10000 }
            for name, value in pairs(more) do
                config[name] = value
            end
            return engine(config, opts or { store = "keybound" })
        end
        function rd(more)
            more.store_secret = more.store_secret or "$SECRET"
            return as(more, { store = { redis = { host = "127.0.0.1", port = \$REDIS, connect_timeout = 1000, timeout = 1000 } } })
        end
EOL
    $block->set_value(http_config => "lua_shared_dict keybound 1m;\nlog_format worker '\$pid';\naccess_log $RUN/access.log worker;\n");
    $block->set_value(tls => ($block->tls // '') . <<'EOC');
        location ~ ^/(\w+)$ {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
    $block->set_value(config => <<'EOC');
        location = /flights {
            content_by_lua_block {
                local n = 0
                for _ in pairs(kb.flights) do n = n + 1 end
                ngx.print(n)
            }
        }
EOC
});

our ($gone_port) = Keybound::_free_ports(1);

sub passes { my ($call, $name) = @_; return refuses($call, '200', $name) }
sub refuses {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(path => '/kb', %$call);
    check($response, $expected, $name);
    return $response;
}
sub opaque { return { as => 'any', cert => 'client', resource => 'opaque', @_ } }
sub introspected { return scalar(asked('/token/introspection')) }
sub all_200 { my ($n, $calls) = @_; return '[' . join(',', ("{\"200\":$n}") x $calls) . ']' }
sub clear { as_control('/log/clear'); write_file("$RUN/access.log", '') }
sub workers_that_served {
    my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/access.log");
    return scalar keys %pids;
}
# leave(SECONDS, \%call...): clients that go away after so long, those that are not `polite` without a word; the result waits until they
# did. (nginx does not notice all who say good-bye in TLS, and no rule is broken by that: their requests run to the end.)
sub leave {
    my ($seconds, @calls) = @_;
    my $end = Time::HiRes::time() + 0.8 * $seconds;
    my @started = map { Keybound::start_command('', Keybound::_curl_words(path => '/kb', %$_), '--max-time', $seconds) } @calls;
    return sub {
        my $left = $end - Time::HiRes::time();
        pause($left) if $left > 0;
        for (grep { !$calls[$_]{polite} } 0 .. $#started) {
            # Not before it has begun.
            pause(0.02) until -e "$started[$_]{base}.err";
            kill KILL => $started[$_]{pid};
        }
        my @ends = map { (Keybound::finish_command($_))[0] } @started;
        is(join(' ', @ends), join(' ', map { $_->{polite} ? 28 : 137 } @calls), 'the clients went away');
    };
}
sub pause { select undef, undef, undef, $_[0] }
sub whole_log { return read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log") }
sub revoke { as_request('/token/revocation', { token => $_[0] }, client => 'any', cert => 'client') }
sub master { return Test::Nginx::Util::get_pid_from_pidfile('sharing') }
sub worker_pids { my $master = master(); return sort split /\n/, (command('', 'pgrep', '-P', $master))[1] }

# What is in all values, changed by Lua
sub redis_change {
    my ($change) = @_;
    redis('EVAL', <<"EOL", 0);
local keys = redis.call("KEYS", "*")
table.sort(keys)
local values = {}
for i, key in ipairs(keys) do values[i] = redis.call("GET", key) end
for i, key in ipairs(keys) do
    local value, others = values[i], values
    $change
    redis.call("SET", key, value, "KEEPTTL")
end
EOL
}

run_tests();

__DATA__

=== TEST 1: two workers with a shared dictionary: one introspection, one fetch of the keys
--- engine
kb = as {}
--- run
define(opaque => opaque(), jwt => { as => 'any', cert => 'client' });
named_token($_) for qw(opaque jwt);
clear();
my @calls = map { { cert => 'client', token => $_, path => '/kb' } } qw(opaque jwt);
# Both at the same moment may both ask.
passes($_, 'the first one') for @calls;
is(json([ at_once(60, (@calls) x 2) ]), all_200(60, 4), 'all pass');
is(workers_that_served(), 2, 'by both workers');
is(introspected(), 1, 'one introspection');
is(scalar(asked('/jwks')), 1, 'one fetch of the keys');
is(scalar(asked('/.well-known/openid-configuration')), 1, 'one of the metadata');
is(json([ at_once(40, ({ cert => 'thief', token => 'opaque', path => '/kb' }) x 2) ]), '[{"401":40},{"401":40}]', 'a thief, on both workers');
is(introspected(), 1, 'and nobody asked again');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 2: 7662-4-e: a thousand requests at once with one opaque token that nobody knows: one introspection per worker at most
--- engine
kb = as {}
--- run
define(opaque => opaque(), other => opaque(), bad => { text => 'bad-1' });
named_token($_) for qw(opaque other);
passes({ cert => 'client', token => 'other' }, 'the metadata is known');
for (['opaque', 'client', 200], ['bad', 'client', 401]) {
    my ($token, $cert, $status) = @$_;
    clear();
    as_control('/hang', { ms => 500, path => '/token/introspection' });
    my $begun = Time::HiRes::time();
    my $seen = flood(125, 8, cert => $cert, token => $token, path => '/kb');
    my $took = Time::HiRes::time() - $begun;
    as_control('/hang', { ms => 0 });
    is(json($seen), "{\"$status\":1000}", "$token: all the same");
    cmp_ok(introspected(), '<=', 2, "$token: introspections: " . introspected());
    is(workers_that_served(), 2, "$token: both workers");
    cmp_ok($took, '<', 8, "$token: nobody waits longer: $took s");
}
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 3: two gateways on one Redis: one introspection, one fetch of the keys; with another secret nothing is shared
--- engine
kb = rd {}
--- run
redis('FLUSHALL');
second_start();
define(opaque => opaque(), jwt => { as => 'any', cert => 'client' });
named_token($_) for qw(opaque jwt);
clear();
for my $token (qw(opaque jwt)) {
    passes({ cert => 'client', token => $token }, "$token: the first");
    on_second(sub { is(call(cert => 'client', token => $token, path => '/kb')->{status}, 200, "$token: the second") }) for 1 .. 4;
    on_second(sub { is(call(cert => 'thief', token => $token, path => '/kb')->{status}, 401, "$token: the second, of a thief") });
    on_second(sub { is(call(token => $token, path => '/kb')->{status}, 401, "$token: the second, without certificate") });
}
my $seen = json([ introspected(), scalar(asked('/jwks')), scalar(asked('/.well-known/openid-configuration')) ]);
is($seen, '[1,1,1]', 'one of each');
second_stop();
second_start(sub { s{\Q$SECRET\E}{another secret, of somebody else, for somebody else}g });
define(new => opaque());
named_token('new');
clear();
passes({ cert => 'client', token => 'new' }, 'the first');
is(introspected(), 1, 'it asked');
on_second(sub { is(call(cert => 'client', token => 'new', path => '/kb')->{status}, 200, 'the second, with another secret') });
on_second(sub { is(call(cert => 'thief', token => 'new', path => '/kb')->{status}, 401, 'of a thief') });
is(introspected(), 2, 'it asked for itself') or diag(introspected());
on_second(sub { is(call(cert => 'client', token => 'jwt', path => '/kb')->{status}, 200, 'the second, JWT') });
is(scalar(asked('/jwks')), 1, 'it fetched keys for itself');
second_stop();
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: what is in Redis holds no token, no claim and no name, and ends by itself
--- engine
kb = rd {}
--- run
redis('FLUSHALL');
define(opaque => opaque(scope => 'read write'), jwt => { as => 'any', cert => 'client' });
passes({ cert => 'client', token => $_ }, $_) for qw(opaque jwt);
my @entries = redis_keys();
cmp_ok(scalar @entries, '>=', 3, 'entries: ' . @entries);
my $all = join "\n", map { "$_->{key}\n$_->{value}" } @entries;
my $issuer = as_start()->{issuer};
my $jwks = Keybound::_output('', qw(curl -sS --noproxy * --cacert), "$PKI/roots.crt", "$issuer/jwks");
my ($modulus) = $jwks =~ /"n":"([^"]+)"/;
for (named_token('opaque'), named_token('jwt'), thumbprint('client'), 'x5t#S256', 'active', 'client_id', 'read write', 'https://api.test', $issuer, 'localhost', 'gateway',
    'introspection', 'jwks', $modulus, 'a secret of all') {
    my $text = $_;
    my %forms = ('as it is' => $text, base64 => MIME::Base64::encode_base64($text, '') =~ s/=+$//r, hex => unpack('H*', $text), sha256 => Keybound::_output($text, qw(openssl dgst -sha256 -binary)));
    is(index($all, $forms{$_}), -1, substr($text, 0, 12) . ": not $_") for sort keys %forms;
}
is(scalar(grep { $_->{ttl} <= 0 } @entries), 0, 'each has an end');
cmp_ok($_->{ttl}, '<=', 86400_000, 'and not a late one') for @entries;
is(scalar(grep { $_->{key} !~ /^keybound:/ } @entries), 0, 'under one prefix');
--- no_error_log
[error]
[alert]

=== TEST 5: a value in Redis that was tampered with is not used: cut, changed, of another key, or anything at all
--- engine
kb = rd { token_cache_entries = 0, keys_max_age = 600 }
--- run
redis('FLUSHALL');
define(opaque => opaque(), other => opaque(cert => 'thief'));
named_token($_) for qw(opaque other);
passes({ cert => 'client', token => 'opaque' }, 'opaque');
passes({ cert => 'thief', token => 'other' }, 'other');
clear();
passes({ cert => 'client', token => 'opaque' }, 'it is remembered there');
is(introspected(), 0, 'nobody was asked');
my %changes = (
    'a changed byte at the end' => 'value = value:sub(1, -2) .. string.char((value:byte(-1) + 1) % 256)',
    'a changed byte at the beginning' => 'value = string.char((value:byte(1) + 1) % 256) .. value:sub(2)',
    'cut' => 'value = value:sub(1, -2)', 'longer' => 'value = value .. "x"', 'empty' => 'value = ""', 'JSON' => 'value = [[{"active":true}]]',
    'of another key' => 'value = others[i % #others + 1]',
);
for my $name (sort keys %changes) {
    redis_change($changes{$name});
    clear();
    passes({ cert => 'client', token => 'opaque' }, "$name: own certificate");
    cmp_ok(introspected(), '>=', 1, "$name: the server was asked");
    refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', "$name: of a thief");
    refuses({ cert => 'client', token => 'other' }, '401 invalid_token certificate_mismatch', "$name: the token of a thief");
    passes({ cert => 'thief', token => 'other' }, "$name: his own");
}
# A new gateway finds nothing but changed entries.
redis_change('value = value .. "x"');
second_start();
clear();
define(jwt => { as => 'any', cert => 'client' });
on_second(sub { is(call(cert => 'client', token => $_, path => '/kb')->{status}, 200, "a new gateway: $_") }) for qw(opaque jwt);
on_second(sub { is(call(cert => 'thief', token => $_, path => '/kb')->{status}, 401, "a new gateway: $_, of a thief") }) for qw(opaque jwt);
is(introspected() > 0 && scalar(asked('/jwks')) > 0, 1, 'it asked the server');
second_stop();
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 6: Redis stopped: the server is asked, nothing opens, one line per worker in 10 seconds; then Redis is back
--- engine
kb = rd { token_cache_entries = 0 }
--- run
redis('FLUSHALL');
define(map { ("opaque$_" => opaque()) } 1 .. 4);
named_token("opaque$_") for 1 .. 4;
define(jwt => { as => 'any', cert => 'client' });
passes({ cert => 'client', token => $_ }, "before: $_") for qw(opaque1 jwt);
redis_stop();
clear();
my @calls = map { { cert => 'client', token => $_, path => '/kb' } } qw(opaque1 opaque2 opaque3 jwt);
is(json([ at_once(25, @calls) ]), all_200(25, 4), 'own certificate');
is(json([ at_once(10, map { { %$_, cert => 'thief' } } @calls) ]), '[' . join(',', ('{"401":10}') x 4) . ']', 'of a thief');
cmp_ok(introspected(), '>=', 3, 'the server was asked: ' . introspected());
my @lines = whole_log() =~ /^(.*the shared store failed.*)$/mg;
cmp_ok(scalar @lines, '<=', 2, 'lines about it: ' . @lines);
cmp_ok(scalar @lines, '>=', 1, 'it is told');
like($lines[0], qr/redis 127\.0\.0\.1:\d+: /, 'where');
unlike(join('', @lines), qr/\Q@{[ named_token('opaque1') ]}\E/, 'without the token');
Keybound::redis_start();
pause(1.2);
at_once(5, @calls);
clear();
is(json([ at_once(10, @calls) ]), all_200(10, 4), 'it is back');
is(introspected(), 0, 'and remembers');
--- timeout: 60
--- no_error_log
[alert]
exited on signal

=== TEST 7: a client that goes away during a request to the server takes nothing from the others
--- engine
kb = as {}
--- tls
lua_check_client_abort on;
--- run
my @pids = worker_pids();
is(scalar @pids, 2, 'two workers');
passes({ cert => 'client', token => 'as:client' }, 'keys and metadata are known');
for my $h2 (0, 1) {
    define(opaque => opaque());
    named_token('opaque');
    clear();
    as_control('/hang', { ms => 1200, path => '/token/introspection' });
    # Whoever comes first begins the request, and is gone before its end.
    my $gone = leave(0.8, map { { cert => 'client', token => 'opaque', h2 => $h2, polite => $_ } } 0, 1, 0, 1, 0, 1, 0, 1);
    pause(0.2);
    my @stay = traffic(1, ({ cert => 'client', token => 'opaque', path => '/kb', h2 => $h2 }) x 8, ({ cert => 'thief', token => 'opaque', path => '/kb', h2 => $h2 }) x 2);
    $gone->();
    is(json([ landed(@stay) ]), '[' . join(',', ('{"200":1}') x 8, ('{"401":1}') x 2) . ']', "h2=$h2: the others have their answers");
    as_control('/hang', { ms => 0 });
    cmp_ok(introspected(), '<=', 2, "h2=$h2: introspections: " . introspected());
    passes({ cert => 'client', token => 'opaque' }, "h2=$h2: afterwards");
}
is(json([ worker_pids() ]), json(\@pids), 'the workers live');
--- timeout: 60
--- no_error_log
[error]
[alert]
exited on signal

=== TEST 8: an answer that nobody waited for is not that of a later request: a token that was revoked since is refused
--- engine
kb = as({ introspection_cache_ttl = 0, introspection_cache_ttl_neg = 0 }, {})
--- tls
lua_check_client_abort on;
--- run
at_once(10, ({ cert => 'client', token => 'as:client', path => '/kb' }) x 4);
my @names = map { "opaque$_" } 1 .. 8;
define(map { ($_ => opaque()) } @names);
named_token($_) for @names;
as_control('/hang', { ms => 700, path => '/token/introspection' });
leave(0.5, map { { cert => 'client', token => $_ } } @names)->();
pause(1);
as_control('/hang', { ms => 0 });
revoke(named_token($_)) for @names;
pause(1);
refuses({ cert => 'client', token => $_ }, '401 invalid_token token_inactive', 'revoked') for @names, @names, @names;
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 9: requests whose clients went away leave nothing behind
--- engine
kb = as({}, {})
--- tls
lua_check_client_abort on;
--- run
at_once(10, ({ cert => 'client', token => 'as:client', path => '/kb' }) x 4);
as_control('/hang', { ms => 700, path => '/token/introspection' });
define(map { ("bad$_" => { text => "bad$_" }) } 1 .. 20);
leave(0.4, map { { cert => 'client', token => "bad$_" } } 1 .. 20)->();
pause(1);
as_control('/hang', { ms => 0 });
my %left;
for (1 .. 50) {
    pause(0.1);
    %left = map { call(plain => 1, path => '/flights')->{body} => 1 } 1 .. 20;
    last if join(',', keys %left) eq '0';
}
is(join(',', sort keys %left), '0', 'flights that are left, in either worker');
--- timeout: 60
--- no_error_log
[alert]

=== TEST 10: a reload while the server hangs: who waits gets an answer, and the new workers work
--- engine
kb = as {}
--- run
passes({ cert => 'client', token => 'as:client' }, 'keys and metadata are known');
define(opaque => opaque(), other => opaque());
named_token($_) for qw(opaque other);
my @old = worker_pids();
clear();
as_control('/hang', { ms => 1500, path => '/token/introspection' });
my @stay = traffic(1, (map { { cert => $_, token => 'opaque', path => '/kb' } } qw(client client thief thief)) x 2);
pause(0.4);
kill HUP => master();
pause(0.5);
my @new = traffic(1, map { { cert => 'client', token => $_, path => '/kb' } } qw(opaque other));
is(json([ landed(@stay) ]), '[' . join(',', ('{"200":1}', '{"200":1}', '{"401":1}', '{"401":1}') x 2) . ']', 'who waited');
is(json([ landed(@new) ]), '[{"200":1},{"200":1}]', 'who came to the new workers');
as_control('/hang', { ms => 0 });
clear();
is(json([ at_once(10, ({ cert => 'client', token => 'opaque', path => '/kb' }) x 4) ]), all_200(10, 4), 'afterwards');
is(introspected(), 0, 'what was learnt is remembered across the reload');
is(scalar(asked('/jwks')), 0, 'the keys, too');
for (1 .. 150) {
    last if 2 == (() = worker_pids());
    pause(0.05);
}
my %old = map { $_ => 1 } @old;
is(scalar(grep { $old{$_} } worker_pids()), 0, 'the old workers have ended');
--- timeout: 60
--- no_error_log
[error]
[alert]
exited on signal

=== TEST 11: workers that begin while the server is gone take the keys that are shared, although they are older than keys_max_age
--- engine
kb = as { issuer = "https://localhost:GONE_PORT", keys_max_age = 1, keys_max_stale = 600, rediscovery_lifetime = 1, timeout = 2000 }
none = as({ issuer = "https://localhost:GONE_PORT", keys_max_age = 1, timeout = 2000 }, {})
--- run
as_start('gone', '--cert', 'as', '--port', our $gone_port);
define(jwt => { as => 'any', cert => 'client', server => 'gone' });
passes({ cert => 'client', token => 'jwt', path => "/$_" }, "$_: before") for qw(kb none);
as_stop('gone');
pause(2.1);
my @old = worker_pids();
kill HUP => master();
for (1 .. 200) {
    my %now = map { $_ => 1 } worker_pids();
    last if !grep { $now{$_} } @old and keys %now == 2;
    pause(0.05);
}
for (1 .. 4) {
    my $begun = Time::HiRes::time();
    passes({ cert => 'client', token => 'jwt' }, 'the shared keys');
    cmp_ok(Time::HiRes::time() - $begun, '<', 1.5, 'at once');
    refuses({ cert => 'thief', token => 'jwt' }, '401 invalid_token certificate_mismatch', 'of a thief');
    refuses({ cert => 'client', token => 'jwt', path => '/none' }, '503 - keys_unavailable', 'without a store there are none');
}
--- timeout: 60
--- no_error_log
[alert]
exited on signal
