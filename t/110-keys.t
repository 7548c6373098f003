# Keys that are fetched: how they are found, when they are fetched and by how many, what holds while they change or cannot be had, and
# whose keys verify whose tokens. The authorization server is a real one; where it must lie, the scripted peer.
use Keybound;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

# Where the server is that is stopped and begun again.
our ($gone_port) = Keybound::_free_ports(1);

# `engine` may use `as`: an engine whose keys are fetched. Each engine NAME is behind the location /NAME.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = ($block->engine // 'kb = as {}') =~ s/GONE_PORT/$gone_port/r;
    $block->set_value(engine => <<'EOL' . $engine);
        function as(more, opts)
            local config = { issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", timeout = 10000, read_timeout = 10000 }
            for name, value in pairs(more) do
                config[name] = value
            end
            return engine(config, opts or { store = "keybound" })
        end
EOL
    $block->set_value(http_config => "lua_shared_dict keybound 1m;\nlog_format worker '\$pid';\naccess_log $RUN/access.log worker;\n");
    $block->set_value(tls => ($block->tls // '') . <<'EOC');
        location ~ ^/(\w+)$ {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
});

# fresh(): the logs are empty, and the next call is the first
sub fresh {
    as_control('/log/clear');
    write_file("$RUN/access.log", '') if -e "$RUN/access.log";
}

sub workers_that_served {
    my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/access.log");
    return scalar keys %pids;
}

sub told { return json([ @_ ]) }
sub metadata { return scalar(asked('/.well-known/openid-configuration', @_)) }
sub keys_fetched { return scalar(asked('/jwks', @_)) }

# passes(CALL, NAME), refuses(CALL, EXPECTED, NAME)
sub passes { my ($call, $name) = @_; refuses($call, '200', $name) }
sub refuses {
    my ($call, $expected, $name) = @_;
    log_mark();
    check(call(%$call), $expected, $name);
}

# A token of our own making that says it is of the authorization server: by a key that this one does not have.
sub ghost {
    my ($kid, %how) = @_;
    return { for => 'client', header => { kid => $kid }, claims => { iss => as_start($how{server} // 'as')->{issuer} }, %how };
}

# Metadata and keys of an issuer below PEER
sub issuer { return 'https://localhost:' . peer_start()->{port} . $_[0] }
sub documents {
    my ($path, %more) = @_;
    my $jwks = delete $more{keys} // Keybound::jwks();
    return (
        "$path/.well-known/openid-configuration" => { json => { issuer => issuer($path), jwks_uri => issuer("$path/jwks"), %more } },
        "$path/jwks" => { json => $jwks },
    );
}

run_tests();

__DATA__

=== TEST 1: the keys are found through the metadata, and at jwks_uri; nothing is fetched before the first token
--- engine
kb = as {}
direct = as { jwks_uri = "$AS/jwks" }
--- run
fresh();
refuses({}, '401 - no_token', 'no token');
refuses({ cert => 'client', authorization => 'Bearer junk' }, '401 invalid_token token_not_jwt', 'no JWT');
is(told(metadata(), keys_fetched()), '[0,0]', 'nothing is asked for that');
passes({ cert => 'client', token => 'as:client' }, 'own certificate');
is(told(metadata(), keys_fetched()), '[1,1]', 'for the first token');
refuses({ cert => 'thief', token => 'as:client' }, '401 invalid_token certificate_mismatch', 'another one');
refuses({ token => 'as:client' }, '401 invalid_token certificate_missing', 'none');
is(told(metadata(), keys_fetched()), '[1,1]', 'once');
passes({ cert => 'client', token => 'as:client', path => '/direct' }, 'own certificate, jwks_uri');
refuses({ cert => 'thief', token => 'as:client', path => '/direct' }, '401 invalid_token certificate_mismatch', 'another one, jwks_uri');
is(told(metadata(), keys_fetched()), '[1,2]', 'no metadata is asked for');
define(forged => ghost('es256'));
refuses({ cert => 'client', token => 'forged' }, '401 invalid_token signature_invalid', 'by a key of our own');
refuses({ cert => 'client', token => 'forged', path => '/direct' }, '401 invalid_token signature_invalid', 'by a key of our own, jwks_uri');
my @documents = grep { $_->{path} =~ /jwks|well-known/ } @{ as_log() };
is_deeply([ grep { $_->{certificate} || $_->{headers}{authorization} } @documents ], [], 'no certificate and no credentials for documents');
--- no_error_log
[error]
[alert]

=== TEST 2: every algorithm of the server
--- tokens eval
+{ map { ($_ => { as => 'any', cert => 'client', resource => $_ }) } qw(rs256 ps256 es256 eddsa) }
--- calls
client rs256 -> 200
client ps256 -> 200
client es256 -> 200
client eddsa -> 200
thief rs256 -> 401 invalid_token certificate_mismatch
thief ps256 -> 401 invalid_token certificate_mismatch
thief es256 -> 401 invalid_token certificate_mismatch
thief eddsa -> 401 invalid_token certificate_mismatch

=== TEST 3: a thousand requests at once before there are keys: the metadata and the keys are fetched once, over both workers
--- run
fresh();
as_control('/hang', { ms => 400, path => '/jwks' });
my $seen = flood(125, 8, cert => 'client', token => 'as:client');
as_control('/hang', { ms => 0 });
is(json($seen), '{"200":1000}', 'all pass');
is(told(metadata(), keys_fetched()), '[1,1]', 'one of each');
is(workers_that_served(), 2, 'both workers');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: a thousand requests at once with a new key: one fetch of the keys, over both workers
--- run
passes({ cert => 'client', token => 'as:client' }, 'before');
my $rotated = as_control('/rotate', { alg => 'RS256' });
define(new => { as => 'any', cert => 'client', resource => 'rs256' });
named_token('new');
fresh();
as_control('/hang', { ms => 400, path => '/jwks' });
my $seen = flood(125, 8, cert => 'client', token => 'new');
as_control('/hang', { ms => 0 });
is(json($seen), '{"200":1000}', 'all pass') or diag(log_since() =~ s/^(?!.*keybound:).*\n//mgr);
is(told(metadata(), keys_fetched()), '[0,1]', 'one fetch');
is(workers_that_served(), 2, 'both workers');
refuses({ cert => 'thief', token => 'new' }, '401 invalid_token certificate_mismatch', 'another certificate');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 5: rotation during traffic: the new key within one request, the removed one no more after keys_max_age, nothing fails meanwhile
--- engine
kb = as { keys_max_age = 3, rediscovery_lifetime = 1 }
--- run
define(old => { as => 'any', cert => 'client' });
passes({ cert => 'client', token => 'old' }, 'the old key');
my %call = (cert => 'client', keep => 1, rate => 50);
my @old = traffic(300, ({ %call, token => 'old' }) x 4);
select undef, undef, undef, 0.5;
my $rotated = as_control('/rotate', { alg => 'RS256' });
define(new => { as => 'any', cert => 'client' });
is(call(cert => 'client', token => 'new')->{status}, 200, 'the new key, at once');
my @new = traffic(250, ({ %call, token => 'new' }, { %call, token => 'new', cert => 'thief' }) x 2);
select undef, undef, undef, 0.5;
as_control('/drop', { kid => $rotated->{old_kid} });
select undef, undef, undef, 3.5;
is(call(cert => 'client', token => 'old')->{status}, 401, 'the removed key');
my @seen = landed(@old);
is_deeply([ sort keys %{ $_ } ], [ 200, 401 ], 'the old token: it passes, then it is refused') for @seen;
is(json([ landed(@new) ]), '[{"200":250},{"401":250},{"200":250},{"401":250}]', 'the new token: each by its certificate');
my %why = map { $_ => 1 } reasons();
is(told(sort keys %why), '["401 certificate_mismatch","401 key_unknown"]', 'nothing else is refused');
refuses({ cert => 'client', token => 'old' }, '401 invalid_token key_unknown', 'the removed key');
passes({ cert => 'client', token => 'new' }, 'the new key');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 6: another key under the same kid: the new one verifies at once, and what the old one signed no more, remembered or not
--- engine
kb = as { rediscovery_lifetime = 1 }
--- run
define(old => { as => 'any', cert => 'client', resource => 'es256' }, older => { as => 'any', cert => 'client', resource => 'es256' });
passes({ cert => 'client', token => 'old' }, 'the old key') for 1 .. 4;
named_token('older');
my $rotated = as_control('/rotate', { alg => 'ES256', same_kid => JSON::PP::true });
is($rotated->{kid}, $rotated->{old_kid}, 'the same kid');
define(new => { as => 'any', cert => 'client', resource => 'es256' });
passes({ cert => 'client', token => 'new' }, 'the new key');
# The other worker may not know yet: any token that its keys do not verify tells it.
select undef, undef, undef, 1.1;
is(json([ at_once(20, ({ cert => 'client', token => 'new' }) x 4) ]), '[' . join(',', ('{"200":20}') x 4) . ']', 'the new key, everywhere');
for (1 .. 4) {
    refuses({ cert => 'client', token => $_ }, '401 invalid_token signature_invalid', "the old key: $_") for 'old', 'older';
    passes({ cert => 'client', token => 'new' }, 'the new key');
}
--- no_error_log
[error]
[alert]

=== TEST 7: 7662-4-e and a flood of unknown kids: one fetch in a cool-down, over both workers
--- engine
kb = as { rediscovery_lifetime = 3 }
--- run
my @kids = map { "kid-$_" } 1 .. 8;
define(map { ($_ => ghost($_)) } @kids);
named_token($_) for @kids;
passes({ cert => 'client', token => 'as:client' }, 'a good one first');
fresh();
my $begun = time;
my @seen = at_once(500, map { { cert => 'client', token => $_, keep => 1 } } @kids);
my @during = at_once(50, { cert => 'client', token => 'as:client', keep => 1 });
my $took = time - $begun + 1;
is(json(\@seen), '[' . join(',', ('{"401":500}') x 8) . ']', 'all are refused');
is(json(\@during), '[{"200":50}]', 'a known key goes on');
my $most = 1 + POSIX::floor($took / 3);
cmp_ok(keys_fetched(), '<=', $most, "4000 tokens in $took s: at most $most fetches of the keys");
cmp_ok(keys_fetched(), '>=', 1, 'they are looked for');
is(metadata(), 0, 'no metadata');
is(workers_that_served(), 2, 'both workers');
refuses({ cert => 'client', token => 'kid-1' }, '401 invalid_token key_unknown', 'why');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 8: the same without a shared dictionary: each worker for itself
--- engine
kb = as({ rediscovery_lifetime = 3 }, {})
--- run
my @kids = map { "kid-$_" } 1 .. 4;
define(map { ($_ => ghost($_)) } @kids);
named_token($_) for @kids;
is(json([ at_once(20, ({ cert => 'client', token => 'as:client' }) x 4) ]), '[' . join(',', ('{"200":20}') x 4) . ']', 'good ones first');
fresh();
my $begun = time;
my @seen = at_once(250, map { { cert => 'client', token => $_, keep => 1 } } @kids);
my $took = time - $begun + 1;
is(json(\@seen), '[' . join(',', ('{"401":250}') x 4) . ']', 'all are refused');
my $most = 2 * (1 + POSIX::floor($took / 3));
cmp_ok(keys_fetched(), '<=', $most, "1000 tokens in $took s: at most $most fetches of the keys");
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 9: an authorization server that is gone: known keys go on, until keys_max_stale; unknown ones cannot be judged; then it is back
--- engine
local port = GONE_PORT
local function gone(more)
    more.issuer, more.rediscovery_lifetime = "https://localhost:" .. port, 1
    return as(more)
end
kb = gone {}
old = gone { keys_max_age = 1 }
stale = gone { keys_max_age = 1, keys_max_stale = 4 }
never = gone { jwks_uri = "https://localhost:" .. port .. "/jwks" }
--- run
our $gone_port;
my @options = ('--cert', 'as', '--port', $gone_port);
my $start = sub { as_start('gone', @options); define(good => { as => 'any', cert => 'client', server => 'gone' }); named_token('good') };
$start->();
define(unknown => ghost('nobodys', server => 'gone'), forged => ghost('es256', server => 'gone'));
passes({ cert => 'client', token => 'good', path => "/$_" }, "$_: before") for qw(kb old stale);
as_stop('gone');
my $stopped = time;
passes({ cert => 'client', token => 'good' }, 'a known key') for 1 .. 4;
refuses({ cert => 'thief', token => 'good' }, '401 invalid_token certificate_mismatch', 'of a thief');
for (1 .. 3) {
    log_mark();
    my $response = call(cert => 'client', token => 'unknown');
    check($response, '503 - keys_unavailable', 'an unknown key');
    is(header($response, 'Retry-After'), 5, 'Retry-After');
}
refuses({ cert => 'client', token => 'forged' }, '401 invalid_token signature_invalid', 'a forged one');
for (1 .. 3) {
    log_mark();
    my $response = call(cert => 'client', token => 'good', path => '/never');
    check($response, '503 - keys_unavailable', 'never fetched');
    is(header($response, 'Retry-After'), 5, 'Retry-After');
}
select undef, undef, undef, 2.1 - (time - $stopped) if time - $stopped < 2.1;
passes({ cert => 'client', token => 'good', path => '/old' }, 'past keys_max_age') for 1 .. 3;
refuses({ cert => 'thief', token => 'good', path => '/old' }, '401 invalid_token certificate_mismatch', 'past keys_max_age: of a thief');
select undef, undef, undef, 5.1 - (time - $stopped) if time - $stopped < 5.1;
refuses({ cert => 'client', token => 'good', path => '/stale' }, '503 - keys_unavailable', 'past keys_max_stale');
passes({ cert => 'client', token => 'good', path => '/old' }, 'not past it');
my $told = () = read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log") =~ /request to the authorization server failed/g;
# Per worker, engine and endpoint, once in 10 s.
cmp_ok($told, '<=', 2 * 4 * 2, "$told lines about it");
cmp_ok($told, '>=', 1, 'it is told');
# Its keys are others now, as those of a server that was set up anew.
$start->();
select undef, undef, undef, 1.1;
for my $path (qw(kb old stale never)) {
    passes({ cert => 'client', token => 'good', path => "/$path" }, "$path: it is back") for 1 .. 3;
    refuses({ cert => 'thief', token => 'good', path => "/$path" }, '401 invalid_token certificate_mismatch', "$path: of a thief");
}
refuses({ cert => 'client', token => 'unknown' }, '401 invalid_token key_unknown', 'an unknown key');
as_stop('gone');
--- timeout: 60
--- no_error_log
[alert]
exited on signal

=== TEST 10: 8414-3.3-a: metadata of another issuer is not used
--- engine
good = as { issuer = "$PEER/good" }
slash = as { issuer = "$PEER/slash" }
case = as { issuer = "$PEER/case" }
host = as { issuer = "$PEER/host" }
absent = as { issuer = "$PEER/absent" }
list = as { issuer = "$PEER/list" }
twice = as { issuer = "$PEER/twice" }
--- run
my $twice = documents_text('/twice');
peer_script({
    documents('/good'), documents('/slash', issuer => issuer('/slash/')), documents('/case', issuer => issuer('/Case')),
    documents('/host', issuer => 'https://other.test/host'), documents('/absent', issuer => undef), documents('/list', issuer => [issuer('/list')]),
    documents('/twice'), '/twice/.well-known/openid-configuration' => { headers => { 'Content-Type' => 'application/json' }, body => $twice },
});
for my $name (qw(good slash case host absent list twice)) {
    define(own => { for => 'client', claims => { iss => issuer("/$name") } });
    if ($name eq 'good') {
        passes({ cert => 'client', token => 'own', path => '/good' }, $name);
        next;
    }
    refuses({ cert => 'client', token => 'own', path => "/$name" }, '503 - keys_unavailable', $name);
    like(log_since(), $name eq 'twice' ? qr/detail=.*metadata/ : qr/detail=.*the metadata's issuer is not exactly https/, "$name: the log says why");
}
my @keys = grep { $_->{path} =~ /jwks/ } map { @{ $_->{requests} } } @{ peer_log()->{log} };
is(told(map { $_->{path} } @keys), '["/good/jwks"]', 'keys of the right one only');

sub documents_text {
    my ($path) = @_;
    my $issuer = issuer($path);
    return qq({"issuer":"$issuer","issuer":"$issuer","jwks_uri":"$issuer/jwks"});
}
--- no_error_log
[alert]

=== TEST 11: 8414-2-a and 8414-D-a: only https, only hosts that the operator named; redirects are not followed
--- engine
for _, name in ipairs { "own", "other", "listed", "plain", "redirect", "keys_redirect", "none" } do
    _G[name] = as { issuer = "$PEER/" .. name, endpoint_hosts = name == "listed" and { "127.0.0.1" } or nil }
end
--- run
my $port = peer_start()->{port};
peer_control('/clear');
peer_script({
    documents('/own'), documents('/other', jwks_uri => "https://127.0.0.1:$port/other/jwks"),
    documents('/listed', jwks_uri => "https://127.0.0.1:$port/listed/jwks"), documents('/plain', jwks_uri => "http://localhost:$port/plain/jwks"),
    documents('/redirect'), '/redirect/.well-known/openid-configuration' => { status => 302, headers => { Location => issuer('/own/.well-known/openid-configuration') } },
    documents('/keys_redirect'), '/keys_redirect/jwks' => { status => 307, headers => { Location => issuer('/own/jwks') } },
    documents('/none', jwks_uri => undef),
});
my %expected = (own => 200, listed => 200, other => qr/names the host 127\.0\.0\.1, which is neither the issuer's nor in endpoint_hosts/,
    plain => qr/jwks_uri of the metadata is not an https URL/, redirect => qr/status 302/, keys_redirect => qr/status 307/, none => qr/jwks_uri/);
for my $name (sort keys %expected) {
    define(own => { for => 'client', claims => { iss => issuer("/$name") } });
    if (ref $expected{$name}) {
        refuses({ cert => 'client', token => 'own', path => "/$name" }, '503 - keys_unavailable', $name);
        like(log_since(), qr/detail=.*$expected{$name}/, "$name: the log says why");
    } else {
        passes({ cert => 'client', token => 'own', path => "/$name" }, $name);
    }
}
my @keys = sort map { $_->{path} } grep { $_->{path} =~ /jwks/ } map { @{ $_->{requests} } } @{ peer_log()->{log} };
is(told(@keys), '["/keys_redirect/jwks","/listed/jwks","/own/jwks"]', 'what was asked for');
--- no_error_log
[alert]

=== TEST 12: 8414-3.1-a: where OpenID Connect's document is not, that of RFC 8414 is asked for, with the path behind the well-known one
--- engine
inserted = as { issuer = "$PEER/inserted" }
neither = as { issuer = "$PEER/neither" }
--- run
peer_control('/clear');
my %documents = documents('/inserted');
my $document = delete $documents{'/inserted/.well-known/openid-configuration'};
peer_script({ %documents, '/.well-known/oauth-authorization-server/inserted' => $document });
define(map { ($_ => { for => 'client', claims => { iss => issuer("/$_") } }) } qw(inserted neither));
passes({ cert => 'client', token => 'inserted', path => '/inserted' }, 'inserted');
refuses({ cert => 'client', token => 'neither', path => '/neither' }, '503 - keys_unavailable', 'nowhere');
like(log_since(), qr{detail=https://localhost:\d+/neither/\.well-known/openid-configuration: status 404; https://localhost:\d+/\.well-known/oauth-authorization-server/neither: status 404}, 'the log says where');
is(told(map { $_->{path} } map { @{ $_->{requests} } } @{ peer_log()->{log} }), told(
    '/inserted/.well-known/openid-configuration', '/.well-known/oauth-authorization-server/inserted', '/inserted/jwks',
    '/neither/.well-known/openid-configuration', '/.well-known/oauth-authorization-server/neither'), 'in this order');
--- no_error_log
[alert]

=== TEST 13: two servers by two CAs: each by its own keys, trust and audience
--- engine
strings = as { issuers_allowed = { "$AS2" }, ssl_trusted_certificate = cjson.null }
objects = as { issuers_allowed = { { issuer = "$AS2", ssl_trusted_certificate = "$PKI/other-ca.crt" } } }
other = as { issuers_allowed = { { issuer = "$AS2", ssl_trusted_certificate = "$PKI/other-ca.crt", audience_required = { "https://other.test" } } } }
distrusted = as({ issuers_allowed = { { issuer = "$AS2", ssl_trusted_certificate = "$PKI/ca.crt" } } }, {})
only = as {}
--- tls
lua_ssl_trusted_certificate $PKI/roots.crt;
--- tokens eval
+{
    one => { as => 'any', cert => 'client' }, two => { as => 'any', cert => 'client', server => 'as2' },
    # The kid is that of a key of each.
    forged => { for => 'client', header => { kid => 'es256' }, claims => { iss => main::as_start('as2')->{issuer} } },
}
--- calls
client one path=/strings -> 200
client two path=/strings -> 200
thief two path=/strings -> 401 invalid_token certificate_mismatch
client forged path=/strings -> 401 invalid_token signature_invalid
client one path=/objects -> 200
client two path=/objects -> 200
thief two path=/objects -> 401 invalid_token certificate_mismatch
client one path=/other -> 200
client two path=/other -> 401 invalid_token audience_mismatch
client one path=/distrusted -> 200
client two path=/distrusted -> 503 - keys_unavailable
client one path=/only -> 200
client two path=/only -> 401 invalid_token issuer_mismatch

=== TEST 14: 7515-4.1.4: a token of one issuer never verifies with the keys of another, under one kid, remembered or not; each has its audience
--- engine
kb = as { issuer = "$PEER/a", rediscovery_lifetime = 1, issuers_allowed = { { issuer = "$PEER/b", ssl_trusted_certificate = "$PKI/ca.crt" },
    { issuer = "$PEER/c", ssl_trusted_certificate = "$PKI/ca.crt", audience_required = { "https://c.test" } } } }
--- run
# The keys of `a` and `c` are one, that of `b` is the other; all have the kid `es`.
my $rogue = do {
    my $point = substr Keybound::_output('', qw(openssl pkey -pubout -outform DER -in), "$PKI/as-rogue.key"), -64;
    { keys => [ { kty => 'EC', crv => 'P-256', kid => 'es', x => Keybound::_base64url(substr $point, 0, 32), y => Keybound::_base64url(substr $point, 32) } ] };
};
peer_script({ documents('/a'), documents('/b', keys => $rogue), documents('/c') });
my $of = sub { my ($issuer, $key, $audience) = @_; { for => 'client', key => $key, claims => { iss => issuer("/$issuer"), aud => $audience // 'https://api.test' } } };
define(a => $of->('a', 'es256'), a_by_b => $of->('a', 'rogue'), b => $of->('b', 'rogue'), b_by_a => $of->('b', 'es256'),
    c => $of->('c', 'es256', 'https://c.test'), c_for_a => $of->('c', 'es256'), a_for_c => $of->('a', 'es256', 'https://c.test'),
    both => $of->('c', 'es256', [ 'https://api.test', 'https://c.test' ]), d => $of->('d', 'es256'));
for (1 .. 4) {
    passes({ cert => 'client', token => $_ }, "$_") for qw(a b c both);
    refuses({ cert => 'client', token => $_ }, '401 invalid_token signature_invalid', $_) for qw(a_by_b b_by_a);
    refuses({ cert => 'client', token => $_ }, '401 invalid_token audience_mismatch', $_) for qw(c_for_a a_for_c);
    refuses({ cert => 'client', token => 'd' }, '401 invalid_token issuer_mismatch', 'an issuer that is none of them');
}
--- no_error_log
[error]
[alert]
