# Introspection: opaque tokens of a real authorization server by every method of client authentication, signed answers, what is
# remembered and for how long, and what is never asked. Where the server must lie, or must be seen to the byte, the scripted peer.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# `engine` may use `as`: an engine that introspects at the authorization server, as `gateway` over mutual TLS if nothing else is said;
# `plain`: as `gateway-basic`; `peer`: at the scripted peer. Each engine NAME is behind the location /NAME, which answers with what
# reached it.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOL' . ($block->engine // 'kb = as {}'));
        local function made(config, more, opts)
            config.jwks, config.ssl_trusted_certificate = cjson.null, "$PKI/ca.crt"
            for name, value in pairs(more) do
                config[name] = value
            end
            local certificate = config.tls_client_auth_cert_id
            if certificate and certificate ~= cjson.null then
                config.client_certificates = { [certificate] = { certificate = "$PKI/" .. certificate .. ".crt", private_key = "$PKI/" .. certificate .. ".key" } }
            end
            return engine(config, opts)
        end
        function as(more, opts)
            return made({ issuer = "$AS", client_id = "gateway", client_auth = "tls_client_auth", tls_client_auth_cert_id = "gateway" }, more, opts)
        end
        function plain(more, opts)
            return made({ issuer = "$AS", client_id = "gateway-basic", client_auth = "client_secret_basic", client_secret = "gateway-basic-secret" }, more, opts)
        end
        function peer(more, opts)
            return made({ issuer = "$PEER", jwks_uri = "$PEER/jwks", introspection_endpoint = "$PEER/introspect", client_id = "gateway-basic",
                client_auth = "client_secret_basic", client_secret = "secret" }, more, opts)
        end
        function pem(name)
            local file = assert(io.open("$PKI/" .. name))
            local content = file:read("*a")
            file:close()
            return content
        end
EOL
    $block->set_value(http_config => "lua_shared_dict keybound 1m;\n");
    $block->set_value(tls => ($block->tls // '') . <<'EOC');
        large_client_header_buffers 4 32k;
        location ~ ^/(\w+)$ {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block {
                local cjson, decision = require "cjson", ngx.ctx.keybound
                ngx.header["X-Ctx"] = decision and cjson.encode(decision.claims) or "none"
                for name, value in pairs(ngx.req.get_headers()) do
                    if name:find("^x%-") then ngx.header["Got-" .. name] = value end
                end
                ngx.say("passed")
            }
        }
EOC
});

sub passes { my ($call, $name) = @_; return refuses($call, '200', $name) }
sub refuses {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(path => '/kb', %$call);
    check($response, $expected, $name);
    return $response;
}

sub introspections { return asked('/token/introspection') }
sub introspected { return scalar(introspections()) }

# opaque(%how): an opaque token of the server
sub opaque { return { as => 'any', cert => 'client', resource => 'opaque', @_ } }

sub revoke {
    my ($token, %how) = @_;
    as_request('/token/revocation', { token => $token }, client => 'any', cert => 'client', %how);
}

# says(MEMBERS): the peer answers this to introspections; got(PATH): the requests for it since then. Its log is never cleared: it would
# forget the connections that are kept alive.
my $heard = 0;
sub all_requests { return sort { $a->{time} <=> $b->{time} } map { @{ $_->{requests} } } @{ peer_log()->{log} } }
sub got { my @all = all_requests(); return grep { $_->{path} eq $_[0] } @all[$heard .. $#all] }
sub says {
    my (%members) = (active => JSON::PP::true, @_);
    answers(json({ map { defined $members{$_} ? ($_ => $members{$_}) : () } keys %members }), 'application/json');
}
sub signed {
    my ($how, %inside) = @_;
    my %claims = (iss => 'https://localhost:' . peer_start()->{port}, aud => 'gateway-basic', iat => int time, token_introspection => \%inside, %{ $how->{claims} // {} });
    delete @claims{ @{ $how->{without} // [] } };
    return token(payload => json(\%claims), key => $how->{key}, header => { typ => 'token-introspection+jwt', %{ $how->{header} // {} } });
}
sub answers {
    my ($body, $type, %more) = @_;
    $heard = () = all_requests();
    peer_script({ '/introspect' => { body => $body, headers => { 'Content-Type' => $type }, %more }, '/jwks' => { json => Keybound::jwks() } });
}
my $unique = 0;
sub fresh { return { text => 'opaque-' . ++$unique . '-' . int rand 1e9 } }
sub mine { return (aud => 'https://api.test', exp => time + 600 | 0, cnf => { 'x5t#S256' => thumbprint('client') }, @_) }

run_tests();

__DATA__

=== TEST 1: 8705-2-a, 8705-2-b, 8705-2-d, 8705-5-a, 7662-2.1-a, 7662-2.1-b: every method; what was sent where, by the server's log
--- engine
local key = function(kind, alg, more)
    local config = { client_id = "gateway-key", client_auth = "private_key_jwt", tls_client_auth_cert_id = cjson.null, client_alg = alg }
    config.client_jwk = pem("gateway-key-" .. kind .. ".key")
    for name, value in pairs(more or {}) do config[name] = value end
    return as(config)
end
tls = as {}
self_signed = as { client_id = "gateway-self-signed", client_auth = "self_signed_tls_client_auth", tls_client_auth_cert_id = "gateway-self-signed" }
basic = plain {}
odd = plain { client_id = "gateway:odd", client_secret = "+ %:&=\"secret\"" }
post = plain { client_id = "gateway-post", client_auth = "client_secret_post", client_secret = "gateway-post-secret" }
secret_jwt = plain { client_id = "gateway-secret-jwt", client_auth = "client_secret_jwt", client_secret = "gateway-secret-jwt-secret-of-32-octets" }
key_default = key("rsa")
key_rs256 = key("rsa", "RS256")
key_ps256 = key("rsa", "PS256")
key_es256 = key("ec", "ES256")
key_eddsa = key("ed25519", "EdDSA")
key_cert = key("ec", nil, { tls_client_auth_cert_id = "gateway" })
basic_cert = plain { tls_client_auth_cert_id = "gateway-b" }
none = plain { client_id = "gateway-none", client_auth = "none", client_secret = cjson.null }
--- run
my $assertion = 'client_assertion,client_assertion_type,';
my @methods = (
    # name, client, port, certificate, scheme, what is in the body besides token and token_type_hint
    [qw(tls gateway mtls gateway -), ''], [qw(self_signed gateway-self-signed mtls gateway-self-signed -), ''],
    [qw(basic gateway-basic main - Basic -)], [qw(odd gateway:odd main - Basic -)], [qw(post gateway-post main - - client_secret,)],
    [qw(secret_jwt gateway-secret-jwt main - -), $assertion],
    (map { [ "key_$_", qw(gateway-key main - -), $assertion ] } qw(default rs256 ps256 es256 eddsa)),
    [qw(key_cert gateway-key mtls gateway -), $assertion], [qw(basic_cert gateway-basic mtls gateway-b Basic -)],
    [qw(none gateway-none main - -), ''],
);
for (@methods) {
    my ($name, $client, $port, $certificate, $scheme, $more) = @$_;
    as_control('/log/clear');
    define(opaque => opaque());
    passes({ cert => 'client', token => 'opaque', path => "/$name" }, "$name: own certificate");
    refuses({ cert => 'thief', token => 'opaque', path => "/$name" }, '401 invalid_token certificate_mismatch', "$name: of a thief");
    my @all = introspections();
    is(scalar @all, 1, "$name: asked once");
    my $seen = $all[0];
    is(join(' ', $seen->{client_id}, $seen->{port}, $seen->{certificate} ? $seen->{certificate}{subject} =~ s/^CN=//r : '-', $seen->{headers}{authorization} // '-'),
        "$client $port $certificate $scheme", "$name: who asked, where");
    is($seen->{certificate}{'x5t#S256'}, thumbprint($certificate), "$name: the certificate") if $certificate ne '-';
    is(join(',', sort @{ $seen->{body_parameters} }), ($more eq '-' ? '' : "${more}client_id,") =~ s/(client_secret,)(client_id,)/$2$1/r =~ s/(client_assertion,client_assertion_type,)(client_id,)/$1$2/r
        . 'token,token_type_hint', "$name: the body");
    is(json([ @$seen{qw(method query_parameters status token_type_hint)} ]), '["POST",[],200,"access_token"]', "$name: how");
    is($seen->{headers}{'content-type'}, 'application/x-www-form-urlencoded', "$name: the type");
}
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 2: 8705-2-c: a server that refuses the gateway says nothing about the token
--- engine
other = as { tls_client_auth_cert_id = "gateway-b" }
unknown = as { client_id = "gateway-unknown" }
wrong = plain { client_secret = "wrong" }
key = plain { client_id = "gateway-key", client_auth = "private_key_jwt", client_secret = cjson.null, client_jwk = pem "as.key" }
none = plain { client_auth = "none", client_secret = cjson.null }
good = as {}
--- run
define(opaque => opaque());
for my $name (qw(other unknown wrong key none)) {
    my $response = refuses({ cert => 'client', token => 'opaque', path => "/$name" }, '503 - client_refused', $name);
    is(header($response, 'Retry-After'), 5, "$name: Retry-After");
    like(log_since(), qr/detail=the introspection endpoint answered 40[01]/, "$name: the log says why");
}
passes({ cert => 'client', token => 'opaque', path => '/good' }, 'the right one');
--- no_error_log
[alert]

=== TEST 3: 9701-4-a, 9701-5-a, 9701-5-b: signed answers in each algorithm of the server
--- engine
local function signs(make, more) more.introspection_accept = "application/token-introspection+jwt" return make(more) end
rs256 = signs(as, {})
es256 = signs(as, { client_id = "gateway-b", tls_client_auth_cert_id = "gateway-b" })
ps256 = signs(plain, {})
eddsa = signs(plain, { client_id = "gateway-post", client_auth = "client_secret_post", client_secret = "gateway-post-secret" })
only = signs(as, { algorithms = { "ES256" } })
--- run
for my $name (qw(rs256 es256 ps256 eddsa)) {
    define(opaque => opaque());
    as_control('/log/clear');
    passes({ cert => 'client', token => 'opaque', path => "/$name" }, "$name: own certificate");
    refuses({ cert => 'thief', token => 'opaque', path => "/$name" }, '401 invalid_token certificate_mismatch', "$name: of a thief");
    is((introspections())[0]{headers}{accept}, 'application/token-introspection+jwt', "$name: Accept");
    define(bad => fresh());
    refuses({ cert => 'client', token => 'bad', path => "/$name" }, '401 invalid_token token_inactive', "$name: unknown to the server");
}
define(opaque => opaque());
refuses({ cert => 'client', token => 'opaque', path => '/only' }, '503 - introspection_unavailable', 'an algorithm that is not accepted');
like(log_since(), qr/detail=the signed response: algorithm_refused/, 'the log says why');
--- no_error_log
[alert]

=== TEST 4: 9701-5-a, 9701-5-b, 9701-5-c: no downgrade; of the issuer, for the client, of now, and only what is inside counts
--- engine
kb = peer { introspection_accept = "application/token-introspection+jwt", rediscovery_lifetime = 1 }
json = peer {}
--- run
my $jwt = 'application/token-introspection+jwt';
my %active = (active => JSON::PP::true, mine());
my $try = sub {
    my ($name, $expected, $body, $type, $path) = @_;
    answers($body, $type // $jwt);
    define(opaque => fresh());
    refuses({ cert => 'client', token => 'opaque', path => $path // '/kb' }, $expected, $name);
};
my $unknown = '503 - introspection_unavailable';
$try->('as it must be', 200, signed({}, %active));
$try->('the type with a parameter', 200, signed({}, %active), "$jwt; charset=utf-8");
$try->('a list of audiences', 200, signed({ claims => { aud => [ 'x', 'gateway-basic' ] } }, %active));
$try->('JSON', $unknown, json(\%active), 'application/json');
$try->('JSON that says it is signed', $unknown, json(\%active));
$try->('signed, that says it is JSON', $unknown, signed({}, %active), 'application/json');
$try->('signed, another type', $unknown, signed({}, %active), 'application/jwt');
$try->('JSON was asked for', $unknown, signed({}, %active), $jwt, '/json');
$try->('JSON where JSON was asked for', 200, json(\%active), 'application/json', '/json');
$try->('an access token', $unknown, signed({ header => { typ => 'at+jwt' } }, %active));
$try->('no typ', $unknown, signed({ header => { typ => 'JWT' } }, %active));
$try->('another issuer', $unknown, signed({ claims => { iss => 'https://other.test' } }, %active));
$try->('no issuer', $unknown, signed({ without => ['iss'] }, %active));
$try->('another client', $unknown, signed({ claims => { aud => 'gateway' } }, %active));
$try->('no audience', $unknown, signed({ without => ['aud'] }, %active));
$try->('old', $unknown, signed({ claims => { iat => int(time) - 120 } }, %active));
$try->('of the future', $unknown, signed({ claims => { iat => int(time) + 120 } }, %active));
$try->('no time', $unknown, signed({ without => ['iat'] }, %active));
$try->('by another key', $unknown, signed({ key => 'rogue' }, %active));
$try->('nothing inside', $unknown, signed({ without => ['token_introspection'], claims => \%active }));
$try->('active outside only', '401 invalid_token token_inactive', signed({ claims => { active => JSON::PP::true, sub => 'x', exp => time + 600 | 0 } }, active => JSON::PP::false));
$try->('bound to another outside', '200', signed({ claims => { cnf => { 'x5t#S256' => thumbprint('thief') } } }, %active));
$try->('bound to another inside', '401 invalid_token certificate_mismatch', signed({}, %active, cnf => { 'x5t#S256' => thumbprint('thief') }));
my ($head, $claims, $signature) = split /\./, signed({}, %active);
$try->('unsigned', $unknown, "$head.$claims.");
$try->('alg none', $unknown, Keybound::_base64url('{"alg":"none","typ":"token-introspection+jwt"}') . ".$claims.");
$try->('two parts', $unknown, "$head.$claims");
--- timeout: 60
--- no_error_log
[alert]

=== TEST 5: 7662-4-d, 8705-3-b, 8705-3-e: the binding of a remembered answer is held to each connection, TLS 1.2, 1.3 and HTTP/2
--- engine
kb = as({}, { store = "keybound" })
again = as({ token_cache_entries = 0 }, { store = "keybound" })
--- run
define(opaque => opaque());
as_control('/log/clear');
# `again` has nothing but the store.
for my $path ('/kb', '/again') {
    for my $how ({}, { tls => '1.2' }, { tls => '1.3' }, { h2 => 1 }, { h2 => 1, tls => '1.2' }) {
        my $name = join ' ', $path, %$how;
        my %call = (token => 'opaque', path => $path, %$how);
        passes({ %call, cert => 'client' }, "$name: own certificate");
        refuses({ %call, cert => 'thief' }, '401 invalid_token certificate_mismatch', "$name: of a thief");
        refuses({ %call, cert => 'same-name' }, '401 invalid_token certificate_mismatch', "$name: of the same name");
        refuses({ %call }, '401 invalid_token certificate_missing', "$name: none");
    }
}
is(introspected(), 1, 'asked once');
# The first one who comes is the thief.
define(opaque => opaque());
refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'a thief first');
refuses({ token => 'opaque' }, '401 invalid_token certificate_missing', 'then nobody');
passes({ cert => 'client', token => 'opaque' }, 'then the owner');
is(introspected(), 2, 'asked once');
--- no_error_log
[error]
[alert]

=== TEST 6: unbound opaque tokens: strict, optional and off
--- engine
kb = as {}
optional = as { proof_of_possession_mtls = "optional" }
off = as { proof_of_possession_mtls = "off" }
--- tokens eval
+{ bound => { as => 'any', cert => 'client', resource => 'opaque' }, free => { as => 'unbound', cert => '-', resource => 'opaque' } }
--- calls
client free path=/kb -> 401 invalid_token token_unbound
client bound path=/kb -> 200
client free path=/optional -> 200
- free path=/optional -> 200
thief bound path=/optional -> 401 invalid_token certificate_mismatch
- bound path=/optional -> 401 invalid_token certificate_missing
client bound path=/optional -> 200
thief bound path=/off -> 200

=== TEST 7: 7662-4-c: a revoked token passes until introspection_cache_ttl, and then no more; the same with the shared store
--- engine
kb = as { introspection_cache_ttl = 2 }
shared = as({ introspection_cache_ttl = 2, token_cache_entries = 0 }, { store = "keybound" })
other = as {}
--- run
define(opaque => opaque());
as_control('/log/clear');
passes({ cert => 'client', token => 'opaque', path => "/$_" }, "$_: before") for qw(kb shared other);
revoke(named_token('opaque'));
passes({ cert => 'client', token => 'opaque', path => "/$_" }, "$_: remembered") for qw(kb shared);
is(introspected(), 3, 'each asked once');
select undef, undef, undef, 2.6;
refuses({ cert => 'client', token => 'opaque', path => "/$_" }, '401 invalid_token token_inactive', "$_: revoked") for qw(kb shared);
passes({ cert => 'client', token => 'opaque', path => '/other' }, 'a longer lifetime');
is(introspected(), 5, 'each asked once more');
--- no_error_log
[error]
[alert]

=== TEST 8: 7662-4-c: an inactive token is refused without asking for introspection_cache_ttl_neg
--- engine
kb = as { introspection_cache_ttl_neg = 2 }
zero = as { introspection_cache_ttl_neg = 0 }
--- run
define(bad => fresh(), other => fresh(), good => opaque());
as_control('/log/clear');
refuses({ cert => 'client', token => 'bad' }, '401 invalid_token token_inactive', 'unknown') for 1 .. 4;
is(introspected(), 1, 'asked once');
refuses({ cert => 'client', token => 'other' }, '401 invalid_token token_inactive', 'another one');
passes({ cert => 'client', token => 'good' }, 'a good one');
is(introspected(), 3, 'each for itself');
select undef, undef, undef, 2.6;
refuses({ cert => 'client', token => 'bad' }, '401 invalid_token token_inactive', 'later');
is(introspected(), 4, 'asked again');
refuses({ cert => 'client', token => 'bad', path => '/zero' }, '401 invalid_token token_inactive', '0') for 1 .. 3;
is(introspected(), 7, '0: each time');
--- no_error_log
[error]
[alert]

=== TEST 9: introspection_cache_ttl 0: each request asks, and revocation holds at once
--- engine
kb = as({ introspection_cache_ttl = 0, introspection_cache_ttl_neg = 0 }, { store = "keybound" })
--- run
define(opaque => opaque());
as_control('/log/clear');
passes({ cert => 'client', token => 'opaque' }, 'good') for 1 .. 4;
refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'of a thief');
is(introspected(), 5, 'each request asks');
revoke(named_token('opaque'));
refuses({ cert => 'client', token => 'opaque' }, '401 invalid_token token_inactive', 'revoked');
--- no_error_log
[error]
[alert]

=== TEST 10: 7662-2.2-c, 7662-4-b: exp ends a remembered answer before introspection_cache_ttl
--- engine
kb = as({}, { store = "keybound" })
shared = as({ token_cache_entries = 0 }, { store = "keybound" })
--- run
define(short => opaque(resource => 'opaque-short'), long => opaque());
passes({ cert => 'client', token => $_ }, "$_: before") for qw(short long);
passes({ cert => 'client', token => $_, path => '/shared' }, "$_: before, shared") for qw(short long);
select undef, undef, undef, 3.5;
for my $path ('/kb', '/shared') {
    log_mark();
    my $response = call(cert => 'client', token => 'short', path => $path);
    is($response->{status}, 401, "$path: at its end");
    like(join(' ', reasons()), qr/^401 (?:token_expired|token_inactive)$/, "$path: why");
    passes({ cert => 'client', token => 'long', path => $path }, "$path: the other one");
}
--- no_error_log
[error]
[alert]

=== TEST 11: 7662-2.2-c: audience, scope and required claims of what the server says
--- engine
kb = as {}
audience = as { audience_required = { "https://other.test" } }
either = as { audience_required = { "https://other.test", "https://api.test" } }
write = as { scopes_required = { "write" } }
client = as { claims_required = { "client_id" } }
sub = as { claims_required = { "sub" } }
--- tokens eval
+{ map { ($_ => { as => 'any', cert => 'client', resource => 'opaque', scope => $_ =~ s/_/ /r }) } qw(read read_write) }
--- calls
client read path=/kb -> 200
client read path=/audience -> 401 invalid_token audience_mismatch
client read path=/either -> 200
client read path=/write -> 403 insufficient_scope insufficient_scope
client read_write path=/write -> 200
thief read_write path=/write -> 401 invalid_token certificate_mismatch
client read path=/client -> 200
client read path=/sub -> 401 invalid_token claim_missing

=== TEST 12: 7662-2.2-c, 8705-3.2-a: what else an active token may be, and is refused for
--- engine
kb = peer { introspection_cache_ttl_neg = 0 }
--- run
my $try = sub {
    my ($name, $expected, %members) = @_;
    says(mine(%members));
    define(opaque => fresh());
    refuses({ cert => 'client', token => 'opaque' }, $expected, $name) for 1 .. 2;
};
my $now = int time;
my $iss = 'https://localhost:' . peer_start()->{port};
$try->('an access token', 200);
$try->($_, 200, token_type => $_) for qw(Bearer bearer access_token);
$try->('a refresh token', '401 invalid_token not_an_access_token', token_type => 'refresh_token');
$try->('an ID token', '401 invalid_token not_an_access_token', token_type => 'id_token');
$try->('a DPoP token', '401 invalid_token confirmation_malformed', token_type => 'DPoP');
$try->('the issuer', 200, iss => $iss);
$try->('another issuer', '401 invalid_token issuer_mismatch', iss => "$iss/");
$try->('past', '401 invalid_token token_expired', exp => $now - 1);
$try->('not yet', '401 invalid_token token_not_yet_valid', nbf => $now + 300);
$try->('already', 200, nbf => $now - 300);
$try->('of the future', '401 invalid_token token_issued_in_future', iat => $now + 300);
$try->('exp as text', '401 invalid_token claims_malformed', exp => 'x');
$try->('unbound', '401 invalid_token token_unbound', cnf => undef);
$try->('cnf that is empty', '401 invalid_token confirmation_malformed', cnf => {});
$try->('cnf as text', '401 invalid_token confirmation_malformed', cnf => 'x');
$try->('cnf as list', '401 invalid_token confirmation_malformed', cnf => [ { 'x5t#S256' => thumbprint('client') } ]);
$try->('cnf with a dot', '401 invalid_token token_unbound', cnf => undef, 'cnf.x5t#S256' => thumbprint('client'));
$try->('bound to a key, too', '401 invalid_token confirmation_unsupported', cnf => { 'x5t#S256' => thumbprint('client'), jkt => thumbprint('client') });
$try->('bound to another', '401 invalid_token certificate_mismatch', cnf => { 'x5t#S256' => thumbprint('thief') });
$try->('no audience', '401 invalid_token claim_missing', aud => undef);
$try->('without exp', 200, exp => undef);
--- no_error_log
[error]
[alert]

=== TEST 13: 7662-2.2-a, 7662-2.2-b, 7662-2.3-a: what is no answer is neither yes nor no, and is not remembered
--- engine
kb = peer {}
--- run
my %good = (active => JSON::PP::true, mine());
my $good = json(\%good);
my $type = 'application/json';
my $unknown = '503 - introspection_unavailable';
my %bad = (
    'active as text' => [ $good =~ s/"active":true/"active":"true"/r, $type ], 'active as number' => [ $good =~ s/"active":true/"active":1/r, $type ],
    'active null' => [ $good =~ s/"active":true/"active":null/r, $type ], 'no active' => [ $good =~ s/"active":true,//r, $type ],
    'a list' => [ "[$good]", $type ], 'twice' => [ $good =~ s/"active":true/"active":false,"active":true/r, $type ], 'empty' => [ '', $type ],
    'a half' => [ substr($good, 0, -1), $type ], 'a mark in front' => [ "\xef\xbb\xbf$good", $type ], 'text/html' => [ $good, 'text/html' ],
    'no type' => [ $good, undef ], 'a page' => [ '<html>', $type ], 'status 500' => [ $good, $type, status => 500 ], 'status 201' => [ $good, $type, status => 201 ],
    'status 302' => [ $good, $type, status => 302 ], 'status 404' => [ $good, $type, status => 404 ],
);
for my $name (sort keys %bad) {
    my ($body, $media, %more) = @{ $bad{$name} };
    define(opaque => fresh());
    answers($body, $media, %more);
    my $response = refuses({ cert => 'client', token => 'opaque' }, $unknown, $name);
    is(header($response, 'Retry-After'), 5, "$name: Retry-After");
    answers($good, 'application/json; charset=utf-8');
    passes({ cert => 'client', token => 'opaque' }, "$name: then it answers");
}
answers($good, $type, status => 503, headers => { 'Content-Type' => $type, 'Retry-After' => 2 });
define(opaque => fresh(), other => fresh());
refuses({ cert => 'client', token => 'opaque' }, $unknown, 'Retry-After of the server');
answers($good, $type);
refuses({ cert => 'client', token => 'other' }, $unknown, 'it is left alone');
is(scalar(got('/introspect')), 0, 'not asked');
select undef, undef, undef, 2.6;
passes({ cert => 'client', token => 'other' }, 'then it is asked');
--- timeout: 60
--- no_error_log
[alert]

=== TEST 14: claims in ngx.ctx and headers for the upstream, at first and remembered; 7662-2.2-d: nothing of an inactive token
--- engine
local with = { upstream_headers_claims = { "client_id", "scope", { "cnf", "x5t#S256" }, "absent" }, upstream_headers_names = { "X-Client", "X-Scope", "X-Print", "X-Absent" } }
kb = as(with)
silent = as(with, { ctx = false })
plain_ = plain {}
with.introspection_cache_ttl_neg = 0
scripted = peer(with)
--- run
define(opaque => opaque(scope => 'read write'));
my @forged = map { "X-$_: forged" } qw(Client Scope Print Absent);
for my $time ('first', 'again') {
    my $response = passes({ cert => 'client', token => 'opaque', headers => \@forged }, $time);
    my $claims = json(scalar header($response, 'X-Ctx'));
    is(json([ @$claims{qw(active client_id scope aud token_type)} ]), '[true,"any","read write","https://api.test","Bearer"]', "$time: claims");
    is($claims->{cnf}{'x5t#S256'}, thumbprint('client'), "$time: cnf");
    is(join('|', map { scalar header($response, "Got-X-$_") } qw(Client Scope Print Absent)), 'any|read write|' . thumbprint('client') . '|', "$time: headers");
    $response = passes({ cert => 'client', token => 'opaque', path => '/silent', headers => \@forged }, "$time: ctx is off");
    is(header($response, 'X-Ctx'), 'none', "$time: nothing in ngx.ctx");
    is(join('|', map { scalar header($response, "Got-X-$_") } qw(Client Scope Absent)), 'any|read write|', "$time: headers all the same");
}
says(mine(), active => JSON::PP::false, client_id => 'marker-client', sub => 'marker-sub');
define(bad => fresh());
my $response = refuses({ cert => 'client', token => 'bad', path => '/scripted' }, '401 invalid_token token_inactive', 'inactive');
unlike(log_since() . $response->{body} . json($response->{headers}), qr/marker-/, 'nothing of it is told');
--- no_error_log
[error]
[alert]
marker-

=== TEST 15: 7662-2.1-a: the request to the byte; arguments, headers and hint; tokens with characters that are to be encoded
--- engine
kb = peer {}
more = peer { introspection_hint = "refresh_token", introspection_post_args_names = { "resource", "x y" }, introspection_post_args_values = { "https://api.test/?a=b&c", "+%é" },
    introspection_headers_names = { "X-Realm", "Accept-Language" }, introspection_headers_values = { "one two", "cs" } }
bare = peer { introspection_hint = "" }
--- run
my $one = sub {
    my ($path, $token) = @_;
    says(mine());
    define(odd => { text => $token });
    passes({ cert => 'client', token => 'odd', path => $path }, "$path $token");
    my @all = got('/introspect');
    is(scalar @all, 1, 'one request');
    return $all[0];
};
is($one->('/kb', 'a+b/c~d_e-f==')->{body}, 'token=a%2Bb%2Fc%7Ed_e-f%3D%3D&token_type_hint=access_token', 'encoded');
is($one->('/kb', 'a.b')->{body}, 'token=a.b&token_type_hint=access_token', 'two parts');
is($one->('/kb', 'a.b.c.d')->{body}, 'token=a.b.c.d&token_type_hint=access_token', 'four parts');
is($one->('/bare', 'bare')->{body}, 'token=bare', 'no hint');
my $more = $one->('/more', 'more');
is($more->{body}, 'token=more&token_type_hint=refresh_token&resource=https%3A%2F%2Fapi.test%2F%3Fa%3Db%26c&x+y=%2B%25%C3%A9', 'arguments');
is(join('|', map { $more->{headers}{$_} // '-' } qw(x-realm accept-language accept content-type authorization)),
    'one two|cs|application/json|application/x-www-form-urlencoded|Basic ' . MIME::Base64::encode_base64('gateway-basic:secret', ''), 'headers');
is(join(' ', @$more{qw(method path)}), 'POST /introspect', 'where');
unlike($more->{headers}{'accept-encoding'} // 'identity', qr/gzip/, 'no compression is asked for');
--- no_error_log
[error]
[alert]

=== TEST 16: introspect_jwt_tokens: verified first, then asked about; the server's word and the token's both hold
--- engine
kb = peer { introspect_jwt_tokens = true, introspection_cache_ttl = 2, introspection_cache_ttl_neg = 0, rediscovery_lifetime = 1 }
off = peer {}
optional = peer { introspect_jwt_tokens = true, proof_of_possession_mtls = "optional" }
real = as { introspect_jwt_tokens = true }
--- run
my $iss = 'https://localhost:' . peer_start()->{port};
my $jwt = sub { return { for => 'client', claims => { iss => $iss }, @_ } };
says(mine());
define(good => $jwt->(), forged => $jwt->(key => 'rogue'), expired => $jwt->(claims => { iss => $iss, exp => 2, iat => 1 }), unbound => $jwt->(for => undef));
passes({ cert => 'client', token => 'good' }, 'active') for 1 .. 3;
is(scalar(got('/introspect')), 1, 'asked once');
refuses({ cert => 'thief', token => 'good' }, '401 invalid_token certificate_mismatch', 'of a thief');
refuses({ cert => 'client', token => 'forged' }, '401 invalid_token signature_invalid', 'forged');
refuses({ cert => 'client', token => 'expired' }, '401 invalid_token token_expired', 'expired');
is(scalar(got('/introspect')), 1, 'nobody is asked about those');
says(mine(), active => JSON::PP::false);
passes({ cert => 'client', token => 'good' }, 'remembered');
select undef, undef, undef, 2.6;
refuses({ cert => 'client', token => 'good' }, '401 invalid_token token_inactive', 'revoked');
passes({ cert => 'client', token => 'good', path => '/off' }, 'without the option it passes');
my $try = sub {
    my ($name, $expected, $how, %said) = @_;
    says(%said);
    define(one => $jwt->(%$how));
    refuses({ cert => 'client', token => 'one' }, $expected, $name);
};
my %said = (aud => 'https://api.test');
$try->('the server says no cnf', 200, {}, %said);
$try->('the token says none', '401 invalid_token token_unbound', { for => undef }, mine());
$try->('neither says one', '401 invalid_token token_unbound', { for => undef }, %said);
says(mine());
define(one => $jwt->(for => undef));
passes({ cert => 'client', token => 'one', path => '/optional' }, 'optional: only the server says one: own certificate');
refuses({ cert => 'thief', token => 'one', path => '/optional' }, '401 invalid_token certificate_mismatch', 'optional: of a thief');
refuses({ token => 'one', path => '/optional' }, '401 invalid_token certificate_missing', 'optional: none');
$try->('each another', '401 invalid_token confirmation_malformed', {}, mine(cnf => { 'x5t#S256' => thumbprint('thief') }));
$try->('the server says it is over', '401 invalid_token token_expired', {}, mine(exp => int(time) - 1));
$try->('the server says another audience', '401 invalid_token audience_mismatch', {}, mine(aud => 'https://other.test'));
answers('{}', 'application/json', status => 500);
define(one => $jwt->());
refuses({ cert => 'client', token => 'one' }, '503 - introspection_unavailable', 'no answer');
# The real one does not introspect JWTs, and says so with 400: nothing opens.
as_control('/log/clear');
refuses({ cert => 'client', token => 'as:client', path => '/real' }, '503 - introspection_unavailable', 'a server that does not do that');
is(introspected(), 1, 'it was asked');
--- no_error_log
[alert]

=== TEST 17: auth_methods: who is asked about what
--- engine
both = as {}
bearer = as { auth_methods = { "bearer" } }
only = as { auth_methods = { "introspection" } }
--- run
define(opaque => opaque());
my %expected = (both => [ 200, 200 ], bearer => [ '401 invalid_token token_not_jwt', 200 ], only => [ 200, '503 - introspection_unavailable' ]);
for my $name (sort keys %expected) {
    as_control('/log/clear');
    my ($opaque, $jwt) = @{ $expected{$name} };
    refuses({ cert => 'client', token => 'opaque', path => "/$name" }, $opaque, "$name: opaque");
    is(introspected(), $opaque eq 200 ? 1 : 0, "$name: asked");
    as_control('/log/clear');
    # The server does not introspect JWTs.
    refuses({ cert => 'client', token => 'as:client', path => "/$name" }, $jwt, "$name: JWT");
    is(introspected(), $jwt eq 200 ? 0 : 1, "$name: asked about the JWT");
}
--- no_error_log
[alert]

=== TEST 18: 6750-2.1: what is no bearer token, or too large, or comes twice, is never sent to the server
--- engine
kb = as { introspection_cache_ttl_neg = 0 }
--- run
as_control('/log/clear');
refuses({ cert => 'client', authorization => "Bearer $_" }, '400 invalid_request malformed_authorization', "<$_>")
    for 'a b', 'a,b', '"a"', 'a"', 'a=b', '=', "\xc3\xa9", 'a&token=b', 'a%20b', 'a:b', '<a>', 'a b c';
refuses({ cert => 'client', authorization => $_ }, '401 - no_token', "<$_>") for 'Basic YTpi', 'DPoP a';
refuses({ cert => 'client', authorization => $_ }, '400 invalid_request malformed_authorization', "<$_>") for 'Bearer';
refuses({ cert => 'client', headers => [ 'Authorization: Bearer a', 'Authorization: Bearer b' ] }, '400 nginx', 'two headers');
refuses({ cert => 'client', authorization => 'Bearer a', path => '/kb?access_token=b' }, '400 invalid_request several_tokens', 'in the query, too');
refuses({ cert => 'client', authorization => 'Bearer ' . 'a' x 8193 }, '401 invalid_token token_too_large', 'too large');
is(introspected(), 0, 'nobody was asked');
refuses({ cert => 'client', authorization => 'Bearer ' . 'a' x 8192 }, '401 invalid_token token_inactive', 'as large as may be');
refuses({ cert => 'client', authorization => 'Bearer a-._~+/9==' }, '401 invalid_token token_inactive', 'all characters');
is(introspected(), 2, 'of these it was');
--- no_error_log
[error]
[alert]
