# From configurations to engines: what is reloaded, shared, freed and rotated, and what is said of a configuration that no worker can use.
use Kong;
use Test::Nginx::Socket 'no_plan';

# `--- workers`: 1 if nothing is said.
add_block_preprocessor(sub { workers($_[0]->workers // 1) });

our $ID = '3b0c7b5e-6e0c-4c52-9f43-6f3f1c3a9d10';
# Nothing of the first issuer holds for another one.
our $OTHER = '{"issuer":"$AS2","ssl_trusted_certificate":"$PKI/other-ca.crt"}';
our $SECRET = 'a secret of all gateways, of 32 characters or more';

# Instances: `as` for the real authorization server; `basic` and `mtls` introspect there, by a secret and by a Certificate.
sub as { return keybound(issuer => '$AS', jwks => undef, ssl_trusted_certificate => '$PKI/ca.crt', timeout => 10000, read_timeout => 10000, @_) }
sub basic { return as(client_id => ['gateway-basic'], client_auth => ['client_secret_basic'], client_secret => ['gateway-basic-secret'], @_) }
sub mtls { return as(client_id => ['gateway'], client_auth => ['tls_client_auth'], tls_client_auth_cert_id => $ID, @_) }
# one_each(NAME => INSTANCE...): one at /NAME; certificate(NAME): the Certificate $ID
sub one_each {
    my (@of) = @_;
    my @services;
    while (my ($name, $instance) = splice @of, 0, 2) {
        push @services, { name => $name, url => 'http://upstream', routes => [{ name => $name, paths => ["/$name"] }], plugins => [$instance] };
    }
    return (services => \@services);
}
sub certificate { return (certificates => [{ id => $ID, cert => read_file("$PKI/$_[0].crt"), key => read_file("$PKI/$_[0].key") }]) }

sub passes { my ($call, $name) = @_; return refuses($call, '200', $name) }
sub refuses {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(cert => 'client', %$call);
    check($response, $expected, $name);
    return $response;
}
# The 500 of a request that no engine decides.
sub fails {
    my ($call, $line, $name) = @_;
    log_mark();
    my $response = call(cert => 'client', %$call);
    is("$response->{status} $response->{body}", '500 {"message":"An unexpected error occurred"}', $name);
    like(log_since(), qr/\[error\].*\[keybound\] the configuration cannot be used: $line/, "$name: the log says why");
}
sub opaque { return { as => 'any', cert => 'client', resource => 'opaque', @_ } }
sub introspections { return asked('/token/introspection') }
sub pause { select undef, undef, undef, $_[0] }
# Until it holds, five seconds at most.
sub holds {
    my ($code, $name) = @_;
    my $end = Time::HiRes::time() + 5;
    my $done;
    until ($done = $code->() or Time::HiRes::time() > $end) { pause(0.1) }
    ok($done, $name);
}
sub whole_log { return read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log") }
sub unusable { return map { /\[keybound\] the configuration cannot be used: (.*?)(?:, context: | while |, client: |$)/ ? $1 : () } split /\n/, $_[0] }

# What the log says of instances that no worker can use, and those (with a good one).
our %lines = (store => 'keybound.new: keybound.store: no `lua_shared_dict nowhere`; put `lua_shared_dict nowhere 10m;` into the http block',
    metrics => 'keybound.new: metrics: no `lua_shared_dict none`; put `lua_shared_dict none 1m;` into the http block', entity => "tls_client_auth_cert_id: there is no Certificate $ID",
    secret => 'client_secret.1: the reference to a vault could not be resolved', file => 'keybound.new: keybound.connection: authorization server: ca: cannot be read: /nowhere.pem: No such file or directory');
sub unusable_ones {
    return one_each(store => keybound(shared_dict => 'nowhere'), metrics => keybound(metrics_dict => 'none'), entity => mtls(), secret => basic(client_secret => ['{vault://env/kb-none}']),
        file => keybound(ssl_trusted_certificate => '/nowhere.pem', jwks => undef), good => keybound());
}

run_tests();

__DATA__

=== TEST 1: reloads under load: every request is decided right
--- workers: 2
--- kong eval
+{ plugins => [main::keybound()] }
--- run
my @calls = map { ({ cert => 'client', token => 'bound' }, { cert => 'thief', token => 'bound' }) } 1 .. 2;
my $done = sub { return scalar(() = read_file("$RUN/serialized") =~ /\n/g) };
my @load = traffic(150, @calls);
pause(0.01) until $done->() > 10;
is(kong_reload({ plugins => [keybound(realm => "realm-$_")] }), undef, "reload $_") for 1 .. 6;
my $seen = $done->();
is(json([landed(@load)]), '[{"200":150},{"401":150},{"200":150},{"401":150}]', 'each by its certificate');
cmp_ok($seen, '<', 600, 'all reloads were while requests came');
log_mark();
is(header(call(cert => 'client'), 'WWW-Authenticate'), 'Bearer realm="realm-6"', 'the last one holds');
--- timeout: 30
--- no_error_log
[error]
[alert]

=== TEST 2: what a configuration permits no more is refused from then on, whatever was remembered; in 3.4, too
--- flavour: 3.4
--- workers: 2
--- kong eval
+{ plugins => [main::as(proof_of_possession_mtls => 'optional', issuers_allowed => [$main::OTHER])] }
--- run
define(other => { as => 'any', cert => 'client', server => 'as2' }, free => { as => 'unbound' });
passes({ token => $_ }, "$_: permitted") for map { ($_) x 6 } qw(free other as:client);
is(kong_reload({ plugins => [as(issuers_allowed => [$main::OTHER])] }), undef, 'strict');
refuses({ token => 'free' }, '401 invalid_token token_unbound', 'an unbound token') for 1 .. 6;
passes({ token => $_ }, $_) for map { ($_) x 3 } qw(other as:client);
is(kong_reload({ plugins => [as()] }), undef, 'one issuer');
refuses({ token => 'other' }, '401 invalid_token issuer_mismatch', 'the other issuer') for 1 .. 6;
passes({ token => 'as:client' }, 'the one that is left') for 1 .. 3;
is(kong_reload({ plugins => [as(scopes_required => ['write'])] }), undef, 'a scope');
refuses({ token => 'as:client' }, '403 insufficient_scope insufficient_scope', 'without it') for 1 .. 6;
define(write => { as => 'any', cert => 'client', scope => 'write' });
passes({ token => 'write' }, 'with it') for 1 .. 3;
--- timeout: 30
--- no_error_log
[error]
[alert]

=== TEST 3: routes with different issuers refuse the tokens of each other
--- listener: optional_no_ca
--- kong eval
+{ main::one_each(a => main::as(), b => main::as(issuer => '$AS2', ssl_trusted_certificate => '$PKI/other-ca.crt')) }
--- run
define(a => { as => 'any', cert => 'client' }, b => { as => 'any', cert => 'client', server => 'as2' });
for (1, 2) {
    passes({ path => "/$_", token => $_ }, "$_: its own") for qw(a b);
    refuses({ path => "/$_->[0]", token => $_->[1] }, '401 invalid_token issuer_mismatch', "$_->[0]: the other's") for [qw(a b)], [qw(b a)];
    refuses({ path => "/$_", token => $_, cert => 'thief' }, '401 invalid_token certificate_mismatch', "$_: of a thief") for qw(a b);
}
--- no_error_log
[error]
[alert]

=== TEST 4: instances that are configured alike share one engine and what it remembers; those that are not, do not
--- watch
--- listener: optional_no_ca
--- kong eval
+{ main::one_each(a => main::basic(), b => main::basic(leeway => 0, audience_claim => ['aud'], groups_required => [], realm => undef, redis => {}), c => main::basic(realm => 'c')) }
--- run
define(opaque => opaque());
named_token('opaque');
as_control('/log/clear');
for (['a', 1, 1], ['b', 1, 1], ['c', 2, 2]) {
    my ($name, $introspections, $fetches) = @$_;
    passes({ path => "/$name", token => $_ }, "$name: $_") for qw(as:client opaque);
    is(scalar(introspections()), $introspections, "$name: introspections so far");
    is(scalar(asked('/jwks')), $fetches, "$name: fetches of the keys so far");
}
is(engines()->{live}, 2, 'engines');
my %of_engine = (leeway => 1, shared_dict => 'keybound', metrics_dict => 'keybound_metrics', certificate_source => 'variable', issuer => 'https://other.test', upstream_headers_claims => ['sub']);
for my $name (sort keys %of_engine) {
    my %more = ($name => $of_engine{$name}, $name eq 'upstream_headers_claims' ? (upstream_headers_names => ['X-A']) : ());
    is(kong_reload({ one_each(a => keybound(), b => keybound(%more)) }), undef, $name);
    is(engines()->{live}, 2, "$name: engines");
}
my %of_plugin = (consumer_claim => ['client_id'], run_on_preflight => JSON::PP::false, anonymous => 'x', inject_client_cert_details => JSON::PP::true, credential_claim => ['jti']);
is(kong_reload({ one_each(a => keybound(), map { $_ => keybound($_ => $of_plugin{$_}) } sort keys %of_plugin) }), undef, 'options of the plugin');
is(engines()->{live}, 1, 'one engine for all of them');
passes({ path => '/a', token => 'bound' }, 'and each has its own options: none');
is(call(path => '/consumer_claim', token => 'bound', cert => 'client')->{status}, 403, 'and each has its own options: a consumer');
--- no_error_log
[alert]

=== TEST 5: an engine that nothing uses any more is freed, in 3.9
--- watch
--- workers: 2
--- kong eval
+{ plugins => [main::keybound()] }
--- run
for my $round (1 .. 3) {
    is(kong_reload({ plugins => [keybound(realm => "realm-$round")] }), undef, 'another one');
    is(json([at_once(10, ({ cert => 'client', token => 'bound' }) x 2)]), '[{"200":10},{"200":10}]', 'requests');
    is(engines()->{live}, 2, "round $round: one for each worker");
}
is(engines()->{made}, 8, 'of those that were made');
kong_reload({});
is(engines()->{live}, 0, 'none, where there is no instance');
--- no_error_log
[error]
[alert]

=== TEST 6: an engine that nothing uses any more is freed, in 3.4; there it is made at the first request
--- flavour: 3.4
--- watch
--- kong eval
+{ plugins => [main::keybound()] }
--- run
is(json(engines()), '{"inherited":0,"live":0,"made":0}', 'before a request');
for my $round (1 .. 3) {
    is(kong_reload({ plugins => [keybound(realm => "realm-$round")] }), undef, 'another one');
    passes({ token => 'bound' }, 'a request');
    is(engines()->{live}, 1, "round $round: one");
}
kong_reload({});
is(engines()->{live}, 0, 'none, where there is no instance');
--- no_error_log
[error]
[alert]

=== TEST 7: the master loads the library, and starts nothing: no engine, no timer
--- flavour: 3.4
--- watch
--- kong eval
+{ plugins => [main::as(shared_dict => 'keybound', metrics_dict => 'keybound_metrics')] }
--- config
location = /timers { content_by_lua_block { ngx.print(ngx.timer.pending_count() + ngx.timer.running_count()) } }
--- run
my $master = Test::Nginx::Util::get_pid_from_pidfile('config');
like(read_file("/proc/$master/maps"), qr/libkeybound\.so/, 'the library');
is(engines()->{inherited}, 0, 'engines');
is(call(plain => 1, path => '/timers')->{body}, 1, 'timers of a worker that had no requests: that of the host');
passes({ token => 'as:client' }, 'a request');
is(engines()->{live}, 1, 'then there is an engine');
is(call(plain => 1, path => '/timers')->{body}, 2, 'and its timer');
--- no_error_log
[error]
[alert]

=== TEST 8: what no worker can use is said when it is configured, in 3.9, and again to each request; what can be used is used
--- workers: 2
--- listener: optional_no_ca
--- kong eval
+{ main::unusable_ones() }
--- run
holds(sub { unusable(whole_log()) == 2 * keys %lines }, 'before any request');
is(join("\n", sort { $a cmp $b } unusable(whole_log())), join("\n", sort map { ($_) x 2 } values %lines), 'by each worker');
fails({ path => "/$_", token => 'bound' }, quotemeta $lines{$_}, $_) for sort keys %lines;
passes({ path => '/good', token => 'bound' }, 'good');
refuses({ path => '/good', token => 'bound', cert => 'thief' }, '401 invalid_token certificate_mismatch', 'good, of a thief');
--- no_error_log
[alert]

=== TEST 9: in 3.4 it is said at the first request
--- flavour: 3.4
--- listener: optional_no_ca
--- kong eval
+{ main::unusable_ones() }
--- run
is(join('|', unusable(whole_log())), '', 'not before');
fails({ path => "/$_", token => 'bound' }, quotemeta $lines{$_}, $_) for sort keys %lines;
passes({ path => '/good', token => 'bound' }, 'good');
--- no_error_log
[alert]

=== TEST 10: a secret that is rotated reaches the engine within seconds; one that cannot be resolved leaves it as it was
--- watch
--- env
KB_SECRET={"as":"wrong"}
--- kong eval
+{ plugins => [main::basic(client_secret => ['{vault://env/kb-secret/as}'], introspection_cache_ttl => 0, introspection_cache_ttl_neg => 0)] }
--- run
define(map { ("opaque$_" => opaque()) } 1 .. 3);
refuses({ token => 'opaque1' }, '503 - client_refused', 'a wrong one');
kong_rotate('kb-secret' => '{"as":"gateway-basic-secret"}');
holds(sub { call(cert => 'client', token => 'opaque1')->{status} == 200 }, 'the right one');
is(engines()->{live}, 1, 'one engine');
log_mark();
kong_rotate('kb-secret' => '{}');
holds(sub { is(call(cert => 'client', token => 'opaque2')->{status}, 200, 'it goes on'); unusable(log_since()) }, 'the log says that there is a fault');
is(join('|', unusable(log_since())), 'client_secret.1: the reference to a vault could not be resolved', 'which one, once');
passes({ token => 'opaque2' }, 'it still goes on');
kong_rotate('kb-secret' => '{"as":"wrong"}');
# After a failure it is looked at again in five seconds.
my $end = Time::HiRes::time() + 8;
pause(0.2) while call(cert => 'client', token => 'opaque3')->{status} == 200 && Time::HiRes::time() < $end;
refuses({ token => 'opaque3' }, '503 - client_refused', 'a wrong one again');
--- timeout: 30
--- no_error_log
[alert]

=== TEST 11: of an array of references each one counts
--- env
KB_ONE=one
--- kong eval
+{ main::one_each(map { $_->[0] => main::basic(introspection_post_args_names => ['resource', 'scope'], introspection_post_args_values => [@$_[1, 2]]) } ['good', 'plain', '{vault://env/kb-one}'], ['bad', 'plain', '{vault://env/kb-none}']) }
--- listener: optional_no_ca
--- run
define(opaque => opaque());
as_control('/log/clear');
passes({ path => '/good', token => 'opaque' }, 'all of them are there');
is((introspections())[0]{scope}, 'one', 'and sent');
fails({ path => '/bad', token => 'opaque' }, 'introspection_post_args_values.2: the reference to a vault could not be resolved', 'one is not there');
--- no_error_log
[alert]

=== TEST 12: tls_client_auth_cert_id is a Certificate of Kong: the server sees it; a changed one is used when the old is forgotten
--- database
--- watch
--- kong eval
+{ plugins => [main::mtls()], main::certificate('gateway') }
--- config
location = /cached { content_by_lua_block { ngx.print((kong.cache:probe("keybound:certificate:" .. ngx.var.arg_id))) } }
location = /forget_soon {
    content_by_lua_block {
        -- The same way, in a shorter time.
        local f, i = require("kong.plugins.keybound.entities").certificate, 1
        while debug.getupvalue(f, i) ~= "NAMED" do i = i + 1 end
        select(2, debug.getupvalue(f, i)).ttl = 1
        kong.cache:invalidate("keybound:certificate:" .. ngx.var.arg_id)
        ngx.print("yes")
    }
}
--- run
define(map { ("opaque$_" => opaque()) } 1 .. 3);
sub shown { my @all = introspections(); return $all[-1]{certificate}{'x5t#S256'} }
passes({ token => 'opaque1' }, 'introspected');
is(shown(), thumbprint('gateway'), 'as that certificate');
refuses({ token => 'opaque1', cert => 'thief' }, '401 invalid_token certificate_mismatch', 'of a thief');
my $left = call(plain => 1, path => "/cached?id=$ID")->{body};
cmp_ok($left, '<=', 60, 'it is remembered for a minute at most');
cmp_ok($left, '>', 40, 'and not much less');
is(call(plain => 1, path => "/forget_soon?id=$ID")->{body}, 'yes', 'from now on for a second');
is(kong_reload({ plugins => [mtls()], certificate('gateway-b') }), undef, 'another one');
holds(sub { define(again => opaque()); call(cert => 'client', token => 'again'); shown() eq thumbprint('gateway-b') }, 'it is used');
refuses({ token => 'opaque2' }, '503 - client_refused', 'which is not that of the client');
is(kong_reload({ plugins => [mtls()], certificate('gateway') }), undef, 'the first');
holds(sub { call(cert => 'client', token => 'opaque3')->{status} == 200 }, 'it is used again');
is(engines()->{live}, 1, 'one engine');
log_mark();
kong_reload({ plugins => [mtls()] });
holds(sub { call(cert => 'client', token => 'opaque3'); unusable(log_since()) }, 'none: the log has it');
is((unusable(log_since()))[0], "tls_client_auth_cert_id: there is no Certificate $ID", 'why');
define(last => opaque());
passes({ token => 'last' }, 'who has it goes on');
--- timeout: 40
--- no_error_log
[alert]

=== TEST 13: secrets inside of records, and what Kong itself puts into a configuration, do not disturb
--- watch
--- listener: optional_no_ca
--- env eval
CORE::join "\n", 'KB_PASSWORD=redis-secret', "KB_STORE=$main::SECRET", 'KB_FILES={"key":"' . "$main::PKI/gateway.key" . '"}'
--- kong eval
main::redis_start('redis-secret');
my %more = (tls_client_auth_cert_id => 'gw', client_certificates => { gw => { certificate => '$PKI/gateway.crt', private_key => '{vault://env/kb-files/key}' } },
    redis => { host => '127.0.0.1', port => main::redis_start() + 0, connect_timeout => 1000, timeout => 1000, password => '{vault://env/kb-password}' }, store_secret => '{vault://env/kb-store}');
+{ main::one_each(a => main::mtls(%more), b => { main::mtls(%more)->%*, instance_name => 'of-b', tags => ['x'] }) }
--- run
define(opaque => opaque());
as_control('/log/clear');
for my $name (qw(a b)) {
    passes({ path => "/$name", token => 'opaque' }, $name);
    refuses({ path => "/$name", token => 'opaque', cert => 'thief' }, '401 invalid_token certificate_mismatch', "$name: of a thief");
}
is(scalar(introspections()), 1, 'one introspection');
is(engines()->{live}, 1, 'one engine');
kong_rotate('kb-password' => 'wrong');
log_mark();
holds(sub { call(cert => 'client', token => 'opaque', path => '/a'); log_since() =~ /the shared store failed.*AUTH/ }, 'a password that is rotated is used, too');
--- no_error_log
[alert]

=== TEST 14: two workers and one Redis: a token is introspected once, and what one was told the other knows
--- workers: 2
--- kong eval
main::redis_start('redis-secret');
+{ plugins => [main::basic(token_cache_entries => 0, store_secret => $main::SECRET,
    redis => { host => '127.0.0.1', port => main::redis_start() + 0, connect_timeout => 1000, timeout => 1000, password => 'redis-secret' })] }
--- run
my $redis = sub { my (undef, $out) = command('', qw(redis-cli --no-auth-warning -a redis-secret -h 127.0.0.1 -p), redis_start(), @_); return $out =~ s/\s+$//r };
is($redis->('FLUSHALL'), 'OK', 'it is empty');
my @names = map { "opaque$_" } 1 .. 4;
define(map { $_ => opaque() } @names);
named_token($_) for @names, 'as:client';
as_control('/log/clear');
passes({ token => $_ }, $_) for @names, 'as:client';
is(json([ at_once(20, map { ({ cert => 'client', token => $_ }, { cert => 'thief', token => $_ }) } @names, 'as:client') ]), '[' . join(',', ('{"200":20},{"401":20}') x 5) . ']', 'all of them');
is(join(' ', scalar(introspections()), scalar(asked('/jwks'))), '4 1', 'introspections, fetches of the keys');
cmp_ok($redis->('DBSIZE'), '>=', 5, 'they are there');
--- timeout: 30
--- no_error_log
[error]
[alert]

=== TEST 15: /keybound/metrics of the Status API has all that workers counted; with several zones one is chosen
--- workers: 2
--- listener: optional_no_ca
--- http_config
lua_shared_dict other 1m;
--- kong eval
+{ main::one_each(a => main::keybound(metrics_dict => 'keybound_metrics'), b => main::keybound()) }
--- run
my $of = sub {
    my ($page, $zone) = @_;
    my $response = status("/keybound/metrics$page");
    my %count;
    $count{$1} += $2 while $response->{body} =~ /^keybound_requests_total\{.*?decision="(\w+)".*\} (\d+)$/mg;
    return CORE::join(' ', $response->{status}, map { "$_=$count{$_}" } sort keys %count);
};
is(json([at_once(20, { cert => 'client', token => 'bound', path => '/a' }, { cert => 'thief', token => 'bound', path => '/a' }, { cert => 'client', token => 'bound', path => '/b' })]),
    '[{"200":20},{"401":20},{"200":20}]', 'requests');
holds(sub { $of->('') eq '200 allow=20 deny=20' }, 'they are counted, and those of an instance without a zone are not');
is(header(status('/keybound/metrics'), 'Content-Type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8', 'the type');
kong_reload({ one_each(a => keybound(metrics_dict => 'keybound_metrics'), b => keybound(metrics_dict => 'other')) });
passes({ path => '/b', token => 'bound' }, 'another zone');
my $none = status('/keybound/metrics');
is("$none->{status} $none->{body}", '404 {"message":"choose one: ?zone=keybound_metrics, other"}', 'which one is not told');
is(status("/keybound/metrics?zone=$_")->{status}, 404, "$_: no zone of keybound's") for qw(keybound kong);
holds(sub { $of->('?zone=other') eq '200 allow=1' }, 'the other zone');
is($of->('?zone=keybound_metrics'), '200 allow=20 deny=20', 'the first one');
kong_reload({ one_each(b => keybound()) });
my $gone = status('/keybound/metrics?zone=other');
is("$gone->{status} $gone->{body}", '404 {"message":"no instance of keybound has metrics_dict"}', 'where no instance has one');
--- no_error_log
[error]
[alert]

=== TEST 16: in 3.4 the page has the zones of instances that had no request, too
--- flavour: 3.4
--- listener: optional_no_ca
--- http_config
lua_shared_dict other 1m;
--- kong eval
+{ main::one_each(a => main::keybound(metrics_dict => 'keybound_metrics'), b => main::keybound(metrics_dict => 'other'), c => { main::keybound(metrics_dict => 'kong')->%*, enabled => JSON::PP::false }) }
--- run
my $none = status('/keybound/metrics');
is("$none->{status} $none->{body}", '404 {"message":"choose one: ?zone=keybound_metrics, other"}', 'of those that are enabled');
like(status('/keybound/metrics?zone=other')->{body}, qr/# EOF\n\z/, 'a page');
passes({ path => '/a', token => 'bound' }, 'a request');
like(status('/keybound/metrics?zone=keybound_metrics')->{body}, qr/^keybound_requests_total\{.*decision="allow".*\} 1$/m, 'is counted');
--- no_error_log
[error]
[alert]

=== TEST 17: a new table with the configuration at each request is no new engine
--- flavour: 3.4
--- rebuild
--- watch
--- kong eval
+{ plugins => [main::basic()] }
--- run
define(opaque => opaque());
named_token('opaque');
as_control('/log/clear');
for (1 .. 20) {
    is(call(cert => 'client', token => $_)->{status}, 200, $_) for qw(as:client opaque);
    is(call(cert => 'thief', token => 'opaque')->{status}, 401, 'of a thief');
}
is(join(' ', scalar(introspections()), scalar(asked('/jwks'))), '1 1', 'introspections, fetches of the keys');
is(json([at_once(500, { cert => 'client', token => 'as:client', keep => 1 })]), '[{"200":500}]', 'more of them');
is(engines()->{made}, 1, 'one engine');
--- timeout: 20
--- no_error_log
[error]
[alert]

=== TEST 18: while a database keeps one request waiting the others go on with the engine that there is
--- config
location = /wait {
    content_by_lua_block {
        local engines = require "kong.plugins.keybound.engines"
        local id = "00000000-0000-4000-8000-000000000001"
        local conf = {
            issuer = "https://as.test", audience_required = { "a" }, client_id = { "c" }, client_auth = { "tls_client_auth" },
            tls_client_auth_cert_id = id, introspection_endpoint = "https://as.test/i",
        }
        local certificate = { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key" }
        local function after(s, answer) return function() ngx.sleep(s) return answer, "away" end end
        local asked = 0
        local function waiting() asked = asked + 1 return after(1)() end
        local first = ngx.thread.spawn(engines.instance, conf, after(0.1, certificate))
        local second = ngx.thread.spawn(engines.instance, conf, after(0.3))
        ngx.thread.wait(first)
        ngx.thread.wait(second)
        ngx.say(engines.instance(conf, after(0)) and "stays" or "lost")
        ngx.sleep(5.1)
        local threads = {}
        for i = 1, 5 do
            threads[i] = ngx.thread.spawn(function()
                ngx.update_time()
                local begun, instance = ngx.now(), engines.instance(conf, waiting)
                ngx.update_time()
                return (instance and "on " or "off ") .. (ngx.now() - begun < 0.5 and "at once" or "later")
            end)
        end
        for i = 1, 5 do
            ngx.say(select(2, ngx.thread.wait(threads[i])))
        end
        ngx.say(asked)
    }
}
--- run
is(call(plain => 1, path => '/wait')->{body}, "stays\non later\n" . "on at once\n" x 4 . "1\n", 'one waits');
--- timeout: 20
--- no_error_log
[alert]
