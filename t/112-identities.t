# Who the gateway is to whom: with several servers, several certificates and two workers, each server sees the certificate that is meant
# for it and no other, and a server that is not to be trusted sees nothing.
use Keybound;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);

# `engine` may use `as`: an engine that introspects with the certificate `cert`. Each engine NAME is behind the location /NAME.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = $block->engine =~ s/AS_NAME/as_start('as-wrong-name')->{issuer}/ger =~ s/AS_EXPIRED/as_start('as-expired')->{issuer}/ger;
    $block->set_value(engine => <<'EOL' . $engine);
        function certificate(name, dir)
            return { certificate = (dir or "$PKI") .. "/" .. name .. ".crt", private_key = (dir or "$PKI") .. "/" .. name .. ".key" }
        end
        function as(more, opts)
            local config = { issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", client_id = "gateway", client_auth = "tls_client_auth",
                tls_client_auth_cert_id = "gateway", client_certificates = { gateway = certificate "gateway" }, introspection_cache_ttl = 0, introspection_cache_ttl_neg = 0 }
            for name, value in pairs(more) do
                config[name] = value
            end
            return engine(config, opts)
        end
EOL
    $block->set_value(http_config => "log_format worker '\$pid';\naccess_log $RUN/access.log worker;\n");
    $block->set_value(tls => ($block->tls // '') . <<'EOC');
        location ~ ^/(\w+)$ {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
    # What a block's nginx finds when it begins.
    $block->set_value(post_setup_server_root => 'main::live("gateway")');
});

# live(NAME): the certificate that is renewed is this one now
sub live {
    my ($name) = @_;
    write_file("$RUN/live.$_", read_file("$PKI/$name.$_")) for qw(crt key);
    chmod 0644, map { "$RUN/live.$_" } qw(crt key);
    chmod 0755, $RUN;
}

sub passes { my ($call, $name) = @_; return refuses($call, '200', $name) }
sub refuses {
    my ($call, $expected, $name) = @_;
    log_mark();
    check(call(%$call), $expected, $name);
}

# both(CALL): it is made until each worker has served it
sub both {
    my ($call) = @_;
    write_file("$RUN/access.log", '');
    for (1 .. 50) {
        at_once(5, ({ %$call, keep => 0 }) x 4);
        my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/access.log");
        return if keys %pids == 2;
    }
    fail('both workers');
}

# who(PATH, SERVER): the subjects of the certificates that came with requests for PATH, each once, with the client_id
sub who {
    my ($path, $server) = @_;
    my %seen = map { ($_->{client_id} // '-') . ' ' . ($_->{certificate} ? $_->{certificate}{subject} : '-') => 1 }
        grep { $_->{path} =~ /$path/ && $_->{path} ne '/token' && $_->{path} ne '/token/revocation' } @{ as_log($server) };
    return json([ sort keys %seen ]);
}
sub opaque { return { as => 'any', cert => 'client', resource => 'opaque', @_ } }

run_tests();

__DATA__

=== TEST 1: 8705-2-a: two servers, two certificates, many requests in turn on connections that are kept: each saw its own only
--- engine
one = as {}
two = as { issuer = "$AS2", ssl_trusted_certificate = "$PKI/other-ca.crt", client_id = "gateway-b", tls_client_auth_cert_id = "gateway-b",
    client_certificates = { ["gateway-b"] = certificate "gateway-b" } }
--- run
define(one => opaque(), two => opaque(server => 'as2'));
named_token($_) for qw(one two);
write_file("$RUN/access.log", '');
as_control('/log/clear', {}, $_) for qw(as as2);
my @calls = map { my $name = $_; map { { cert => $_, token => $name, path => "/$name", keep => 1 } } qw(client thief) } qw(one two);
my @seen = at_once(50, @calls, @calls);
is(json(\@seen), '[' . join(',', ('{"200":50},{"401":50}') x 4) . ']', 'each by its certificate');
my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/access.log");
is(scalar keys %pids, 2, 'both workers');
for (['as', 'gateway'], ['as2', 'gateway-b']) {
    my ($server, $name) = @$_;
    my @all = asked('/token/introspection', $server);
    # Requests about one token at once are one.
    cmp_ok(scalar @all, '>=', 20, "$server: it was asked " . @all . ' times');
    is(who('introspection', $server), qq(["$name CN=$name"]), "$server: by $name only");
    is(scalar(grep { $_->{certificate}{'x5t#S256'} ne thumbprint($name) } @all), 0, "$server: with its certificate");
    is(scalar(grep { $_->{port} ne 'mtls' } @all), 0, "$server: at the port for mutual TLS");
    my %connections = map { $_->{connection} => 1 } @all;
    cmp_ok(scalar keys %connections, '<', 40, "$server: on connections that are kept: " . keys %connections);
    is(who('well-known|jwks', $server), '["- -"]', "$server: none where the metadata is");
}
# A token of one is none at the other.
refuses({ cert => 'client', token => 'one', path => '/two' }, '401 invalid_token token_inactive', 'of the other server');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 2: two clients of one server, at one address: connections are not shared
--- engine
one = as { mtls_introspection_endpoint = "$AS/token/introspection" }
two = as { mtls_introspection_endpoint = "$AS/token/introspection", client_id = "gateway-b", tls_client_auth_cert_id = "gateway-b", client_certificates = { ["gateway-b"] = certificate "gateway-b" } }
none = as { introspection_endpoint = "$AS/token/introspection", client_id = "gateway-none", client_auth = "none", tls_client_auth_cert_id = cjson.null, client_certificates = cjson.null }
--- run
define(opaque => opaque());
named_token('opaque');
as_control('/log/clear');
my @seen = at_once(40, (map { { cert => 'client', token => 'opaque', path => "/$_", keep => 1 } } qw(one two none)) x 2);
is(json(\@seen), '[' . join(',', ('{"200":40}') x 6) . ']', 'all pass');
is(who('introspection'), '["gateway CN=gateway","gateway-b CN=gateway-b","gateway-none -"]', 'each with its own');
my %by;
$by{ $_->{connection} }{ $_->{certificate} ? $_->{certificate}{subject} : '-' } = 1 for asked('/token/introspection');
is(scalar(grep { keys %$_ != 1 } values %by), 0, 'one identity on each connection');
cmp_ok(scalar keys %by, '<', 60, 'connections are kept: ' . keys %by);
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 3: one server, another certificate for each endpoint
--- engine
kb = as { metadata_cert_id = "gateway-self-signed", introspection_endpoint_cert_id = "gateway-b", client_id = "gateway-b", mtls_introspection_endpoint = "$AS/token/introspection",
    keys_max_age = 1, client_certificates = { gateway = certificate "gateway", ["gateway-b"] = certificate "gateway-b", ["gateway-self-signed"] = certificate "gateway-self-signed" } }
--- run
define(opaque => opaque(), jwt => { as => 'any', cert => 'client' });
named_token($_) for qw(opaque jwt);
as_control('/log/clear');
for (1 .. 3) {
    my @seen = at_once(20, map { { cert => 'client', token => $_, path => '/kb', keep => 1 } } qw(opaque jwt opaque jwt));
    is(json(\@seen), '[{"200":20},{"200":20},{"200":20},{"200":20}]', 'all pass');
    select undef, undef, undef, 1.1;
}
is(who('introspection'), '["gateway-b CN=gateway-b"]', 'introspection');
is(who('well-known'), '["- CN=gateway-self-signed"]', 'metadata');
is(who('jwks'), '["- CN=gateway-self-signed"]', 'keys');
cmp_ok(scalar(asked('/jwks')), '>=', 2, 'keys were fetched anew');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: one engine, two servers: the second is asked with its own certificate, or with none, never with that of the first
--- engine
local jwks = options().jwks
local function peers(second)
    second.issuer, second.jwks = "$PEER/second", jwks
    second.introspection_endpoint = second.client_id and "$PEER/second/introspect"
    second.ssl_trusted_certificate = "$PKI/ca.crt"
    return as { issuer = "$PEER", jwks = jwks, mtls_introspection_endpoint = "$PEER/introspect", introspect_jwt_tokens = true, issuers_allowed = { second },
        client_certificates = { gateway = certificate "gateway", ["gateway-b"] = second.tls_client_auth_cert_id and certificate "gateway-b" or nil } }
end
own = peers { client_id = "gateway-b", client_auth = "tls_client_auth", tls_client_auth_cert_id = "gateway-b" }
without = peers { client_id = "gateway-basic", client_auth = "client_secret_basic", client_secret = "secret" }
--- run
my $peer = 'https://localhost:' . peer_start()->{port};
peer_script({ map { ($_ => { json => { active => JSON::PP::true, aud => 'https://api.test', cnf => { 'x5t#S256' => thumbprint('client') } } }) } '/introspect', '/second/introspect' });
define(first => { for => 'client', claims => { iss => $peer } }, second => { for => 'client', claims => { iss => "$peer/second" } });
named_token($_) for qw(first second);
for (['own', { '/introspect' => 'CN=gateway', '/second/introspect' => 'CN=gateway-b' }], ['without', { '/introspect' => 'CN=gateway', '/second/introspect' => '-' }]) {
    my ($name, $expected) = @$_;
    my $since = Time::HiRes::time();
    my @seen = at_once(20, (map { { cert => 'client', token => $_, path => "/$name", keep => 1 } } qw(first second)) x 2);
    is(json(\@seen), '[' . join(',', ('{"200":20}') x 4) . ']', "$name: all pass");
    my %who;
    for my $connection (@{ peer_log()->{log} }) {
        $who{ $_->{path} }{ $connection->{handshake}{certificate} ? $connection->{handshake}{certificate}{subject} : '-' }++ for grep { $_->{time} >= $since } @{ $connection->{requests} };
    }
    is(json({ map { $_ => join ',', sort keys %{ $who{$_} } } keys %who }), json($expected), "$name: who asked where");
}
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 5: a renewed certificate is shown on new connections without a reload; a broken file changes nothing
--- engine
kb = as { client_id = "gateway-basic", client_auth = "client_secret_basic", client_secret = "gateway-basic-secret", tls_client_auth_cert_id = "live", client_certificates = { live = certificate("live", "$PKI/..") } }
--- run
define(opaque => opaque());
named_token('opaque');
my @load = ({ cert => 'client', token => 'opaque', path => '/kb', keep => 1 }) x 4;
my $round = sub {
    my ($name, $expected) = @_;
    as_control('/log/clear');
    is(json([ at_once(15, @load) ]), '[' . join(',', ('{"200":15}') x 4) . ']', "$name: all pass");
    is(who('introspection'), qq(["gateway-basic CN=$expected"]), "$name: $expected");
};
$round->('before', 'gateway');
live('gateway-b');
select undef, undef, undef, 5.2;
# The first one of each worker looks.
both($load[0]);
$round->('renewed', 'gateway-b');
write_file("$RUN/live.crt", read_file("$PKI/gateway.crt"));
select undef, undef, undef, 5.2;
both($load[0]);
$round->('a certificate without its key', 'gateway-b');
my $log = read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log");
like($log, qr/keybound: live: changed files are in use/, 'the log tells of the change');
like($log, qr/keybound: live: .* is not the key of .*; what was loaded before stays in use/, 'and of the mistake');
unlike($log, qr/SIGHUP/, 'no reload');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 6: 7662-4-a, 8414-6.1-a: a server that is not to be trusted is sent nothing, whether a certificate is offered or not
--- engine
local function at(issuer, more)
    more.issuer = issuer
    more.mtls_introspection_endpoint = issuer .. "/token/introspection"
    return as(more)
end
local basic = { client_id = "gateway-basic", client_auth = "client_secret_basic", client_secret = "gateway-basic-secret", tls_client_auth_cert_id = cjson.null, client_certificates = cjson.null }
local function without(issuer, more)
    local config = { issuer = issuer, introspection_endpoint = issuer .. "/token/introspection" }
    for _, part in ipairs { basic, more } do for name, value in pairs(part) do config[name] = value end end
    return as(config)
end
other, name, expired = at("$AS2", {}), at("AS_NAME", {}), at("AS_EXPIRED", {})
other_off, name_off, expired_off = at("$AS2", { tls_client_auth_ssl_verify = false }), at("AS_NAME", { tls_client_auth_ssl_verify = false }), at("AS_EXPIRED", { tls_client_auth_ssl_verify = false })
-- The one option is not the other.
other_wrong = at("$AS2", { ssl_verify = false })
plain_other, plain_name, plain_expired = without("$AS2", {}), without("AS_NAME", {}), without("AS_EXPIRED", {})
plain_off, plain_wrong = without("$AS2", { ssl_verify = false }), without("$AS2", { tls_client_auth_ssl_verify = false })
trusted = at("$AS2", { ssl_trusted_certificate = "$PKI/other-ca.crt" })
both = at("$AS2", { ssl_trusted_certificate = "$PKI/roots.crt" })
good, wrong_ca = at("$AS", {}), at("$AS", { ssl_trusted_certificate = "$PKI/other-ca.crt" })
keys, keys_name = as { issuer = "$AS2" }, as { issuer = "AS_NAME" }
--- run
define(opaque => { text => 'opaque' }, jwt2 => { for => 'client', claims => { iss => as_start('as2')->{issuer} } }, jwtn => { for => 'client', claims => { iss => as_start('as-wrong-name')->{issuer} } });
as_control('/log/clear', {}, $_) for qw(as as2 as-wrong-name as-expired);
my $unavailable = '503 - introspection_unavailable';
for my $path (qw(other name expired other_wrong plain_other plain_name plain_expired plain_wrong wrong_ca)) {
    refuses({ cert => 'client', token => 'opaque', path => "/$path" }, $unavailable, $path);
    like(log_since(), qr/detail=no TLS connection, or the server's certificate is not trusted/, "$path: the log says why");
}
refuses({ cert => 'client', token => 'jwt2', path => '/keys' }, '503 - keys_unavailable', 'keys: another CA');
refuses({ cert => 'client', token => 'jwtn', path => '/keys_name' }, '503 - keys_unavailable', 'keys: another name');
is(json([ map { scalar @{ as_log($_) } } qw(as as2 as-wrong-name as-expired) ]), '[0,0,0,0]', 'no server got a request');
# Its answer is that it does not know the token: it was asked.
refuses({ cert => 'client', token => 'opaque', path => "/$_" }, '401 invalid_token token_inactive', $_) for qw(other_off name_off expired_off plain_off trusted both good);
my $log = read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log");
like($log, qr/outcome=certificate, detail=the server's certificate/, 'the log tells of certificates');
like($log, qr/ssl_verify or tls_client_auth_ssl_verify is false/, 'and of checks that are off');
--- no_error_log
[alert]
exited on signal

=== TEST 7: each issuer has its own trust: the CA of one does not vouch for the other
--- engine
local function two(first, second)
    return as { ssl_trusted_certificate = first, issuers_allowed = { { issuer = "$AS2", ssl_trusted_certificate = second } } }
end
right = two("$PKI/ca.crt", "$PKI/other-ca.crt")
swapped = two("$PKI/other-ca.crt", "$PKI/ca.crt")
one = two("$PKI/ca.crt", "$PKI/ca.crt")
--- tokens eval
+{ one => { as => 'any', cert => 'client' }, two => { as => 'any', cert => 'client', server => 'as2' }, opaque => { as => 'any', cert => 'client', resource => 'opaque' } }
--- calls
client one path=/right -> 200
client two path=/right -> 200
client opaque path=/right -> 200
thief two path=/right -> 401 invalid_token certificate_mismatch
client one path=/swapped -> 503 - keys_unavailable
client two path=/swapped -> 503 - keys_unavailable
client opaque path=/swapped -> 503 - metadata_unavailable
client one path=/one -> 200
client two path=/one -> 503 - keys_unavailable
