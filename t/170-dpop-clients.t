# Clients with keys of their own (RFC 9449), made of libraries as npm has them: oauth4webapi, openid-client and dpop get tokens from a
# real authorization server, which binds them to their keys, and call the gateway. Whatever it asks of them they do by themselves.
use Keybound;
use Dpop;
use Test::Nginx::Socket 'no_plan';

# The engine NAME is behind the location /NAME. `keys` has JWTs and the server's keys, `opaque` introspects.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOL' . ($block->engine // ''));
        local function made(more)
            local config = { issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", proof_of_possession_dpop = "strict",
                public_origin = "https://$TLS" }
            for name, value in pairs(more or {}) do
                config[name] = value
            end
            return engine(config, { store = "proofs" })
        end
        function keys(more) return made(more) end
        function opaque(more)
            local config = { client_id = "gateway-basic", client_auth = "client_secret_basic", client_secret = "gateway-basic-secret" }
            for name, value in pairs(more or {}) do
                config[name] = value
            end
            return made(config)
        end
        NONCE = ("nonce"):rep(8)
EOL
    $block->set_value(http_config => "lua_shared_dict proofs 1m;\nlua_shared_dict keybound 1m;\n");
    $block->set_value(tls => <<'EOC');
        location ~ ^/(\w+) {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
});

our @LIBRARIES = qw(oauth4webapi openid-client dpop);
our $ASKED = 'DPoP error="use_dpop_nonce", algs="ES256 PS256 EdDSA"';

# goes(NONCE, %how): ten calls, all of them 200, after one challenge where the gateway wants a nonce; what the client said
sub goes {
    my ($nonce, %how) = @_;
    my $said = client(%how);
    my $got = { map { $_ => $said->{$_} } qw(token_type statuses challenges answers error) };
    my $expected = { token_type => 'dpop', statuses => [ (200) x 10 ], challenges => [ $nonce ? $ASKED : () ], answers => $nonce ? 11 : 10, error => undef };
    is(json($got), json($expected), join ' ', map { "$_=$how{$_}" } sort keys %how);
    return $said;
}

run_tests();

__DATA__

=== TEST 1: rfc9449-7-a: clients as they are, with JWTs and opaque tokens, by GET and POST, with and without a nonce of the authorization server
--- engine
jwt, intro = keys(), opaque()
--- run
for my $with (@LIBRARIES) {
    goes(0, with => $with, path => '/jwt');
    goes(0, with => $with, path => '/jwt/a/b%20c?d=e', method => 'POST', client => 'dpop-nonce');
    goes(0, with => $with, path => '/intro', resource => 'opaque', client => 'dpop-nonce');
    goes(0, with => $with, path => '/intro/a?b', resource => 'opaque', method => 'PUT');
}
my @asked = asked('/token');
is(scalar(grep { $_->{headers}{dpop} } @asked), scalar @asked, 'who gets a token sends a proof');
my @refused = grep { $_->{status} == 400 } @asked;
is(join(',', map { $_->{client_id} } @refused), join(',', ('dpop-nonce') x 6), 'the nonce of the authorization server is asked for once by each client');
--- timeout: 90
--- no_error_log
[warn]
[error]

=== TEST 2: rfc9449-9-a: the gateway asks for a nonce; the clients take it and try again by themselves
--- engine
jwt, intro = keys { dpop_use_nonce = true, dpop_nonce_secret = NONCE }, opaque { dpop_use_nonce = true, dpop_nonce_secret = NONCE }
--- run
for my $with (@LIBRARIES) {
    is(goes(1, with => $with, path => '/jwt')->{nonces}, 1, 'one nonce');
    # rfc9449-9-b: the two servers' nonces are not each other's
    is(goes(1, with => $with, path => '/intro', resource => 'opaque', client => 'dpop-nonce')->{nonces}, 1, 'one nonce');
}
--- timeout: 90
--- no_error_log
[error]

=== TEST 3: rfc9449-8.2: a nonce is replaced while it is good: clients are asked once, and never again
--- engine
jwt = keys { dpop_use_nonce = true, dpop_nonce_secret = NONCE, dpop_proof_lifetime = 4 }
--- run
for my $with (@LIBRARIES) {
    # Longer than a nonce lives
    my $said = goes(1, with => $with, path => '/jwt', pause => 700);
    cmp_ok($said->{nonces}, '>=', 3, "$with: nonces of six seconds");
}
--- timeout: 90
--- no_error_log
[error]

=== TEST 4: rfc9449-4.3-5: each kind of key that the challenge names; Ed25519 by the name of RFC 9864, too
--- engine
jwt = keys()
ed25519 = keys { dpop_algorithms = { "EdDSA" } }
es384 = keys { dpop_algorithms = { "ES384" } }
--- run
for my $with (@LIBRARIES) {
    goes(0, with => $with, path => '/jwt', alg => $_) for qw(ES256 PS256 Ed25519);
    goes(0, with => $with, path => '/ed25519', alg => 'Ed25519');
    my $said = client(with => $with, path => '/es384', alg => 'ES256', calls => 1);
    is(json([ @$said{qw(statuses challenges)} ]), '[[401],["DPoP error=\"invalid_dpop_proof\", algs=\"ES384\""]]', "$with: told which ones are taken");
}
--- timeout: 90
--- no_error_log
[error]
