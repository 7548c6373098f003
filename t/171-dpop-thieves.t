# Tokens that a real authorization server bound to a key, JWT and opaque, in the hands of others; and what these cannot spoil for the
# owner: proofs are remembered when nothing else is left to be checked.
use Keybound;
use Dpop;
use Test::Nginx::Socket 'no_plan';

# The engine NAME is behind the location /NAME. `keys` has the server's keys, `opaque` introspects; proofs are remembered in Redis.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOL' . ($block->engine // 'jwt, intro = made(), made(GATEWAY)'));
        GATEWAY = { client_id = "gateway-basic", client_auth = "client_secret_basic", client_secret = "gateway-basic-secret" }
        function made(...)
            local config = { issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", proof_of_possession_dpop = "strict",
                public_origin = "https://api.test", store_secret = ("s"):rep(32) }
            for _, more in ipairs { ... } do
                for name, value in pairs(more) do
                    config[name] = value
                end
            end
            return engine(config, { store = { redis = { host = "127.0.0.1", port = $REDIS, connect_timeout = 1000, timeout = 1000 } } })
        end
EOL
    $block->set_value(http_config => "lua_shared_dict keybound 1m;\n");
    $block->set_value(schemes => 'DPoP') unless defined $block->schemes;
    $block->set_value(tls => <<'EOC');
        location ~ ^/(\w+) {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
});

our $MISMATCH = '401 invalid_token proof_key_mismatch';

# says(EXPECTED, NAME, KEY, TOKEN, %call)
sub says {
    my ($expected, $name, @sent) = @_;
    log_mark();
    check(call(sent(@sent)), $expected, $name);
}


# A request as it was sent, for whoever saw it.
sub seen { my %call = sent(@_); return (authorization => $call{authorization}, headers => $call{headers}) }

run_tests();

__DATA__

=== TEST 1: rfc9449-6-b: a JWT in other hands: another key, no proof, no DPoP at all, a proof of something else
--- tokens eval
{ plain => { as => 'unbound' } }
--- calls
- as-jkt:phone path=/jwt proof=phone                                   -> 200
- as-jkt:phone path=/jwt proof=thief                                   -> 401 invalid_token proof_key_mismatch
- as-jkt:phone path=/jwt proof=ps256-thief                             -> 401 invalid_token proof_key_mismatch
- as-jkt:phone path=/jwt proof=eddsa-thief                             -> 401 invalid_token proof_key_mismatch
- as-jkt:phone path=/jwt scheme=DPoP                                   -> 401 invalid_dpop_proof proof_missing
- as-jkt:phone path=/jwt                                               -> 401 invalid_token dpop_scheme_required
- as-jkt:phone path=/jwt scheme=Bearer proof=thief                     -> 401 invalid_token dpop_scheme_required
- as-jkt:phone path=/jwt scheme=Bearer proof=phone                     -> 401 invalid_token dpop_scheme_required
- as-jkt:phone path=/jwt proof=phone htm=POST                          -> 401 invalid_dpop_proof proof_method_mismatch
- as-jkt:phone path=/jwt proof=phone method=POST htm=GET               -> 401 invalid_dpop_proof proof_method_mismatch
- as-jkt:phone path=/jwt proof=phone htm=get                           -> 401 invalid_dpop_proof proof_method_mismatch
- as-jkt:phone path=/jwt proof=phone method=POST                       -> 200
- as-jkt:phone path=/jwt proof=phone htu=https://api.test/jwt/a        -> 401 invalid_dpop_proof proof_uri_mismatch
- as-jkt:phone path=/jwt/a proof=phone htu=https://api.test/jwt        -> 401 invalid_dpop_proof proof_uri_mismatch
- as-jkt:phone path=/jwt proof=phone htu=https://elsewhere.test/jwt    -> 401 invalid_dpop_proof proof_uri_mismatch
- as-jkt:phone path=/jwt?a proof=phone htu=HTTPS://API.test:443/%6awt?b -> 200
- as-jkt:phone path=/jwt proof=phone ath=fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo -> 401 invalid_dpop_proof proof_token_mismatch
# The thief's own token, which is good, and a proof of the owner's
- as-jkt:thief path=/jwt proof=thief                                   -> 200
- as-jkt:thief path=/jwt proof=phone                                   -> 401 invalid_token proof_key_mismatch
# Plain bearer tokens do not gain by a proof.
- plain path=/jwt proof=thief                                          -> 401 invalid_token token_not_dpop_bound
--- no_error_log
[error]

=== TEST 2: rfc9449-6-b: an opaque token in other hands, whether its introspection is remembered or not
--- engine
intro, cold = made(GATEWAY), made(GATEWAY, { introspection_cache_ttl = 0, token_cache_entries = 0 })
--- run
for my $path (qw(/intro /cold)) {
    define(stolen => { as => 'dpop', jkt => 'phone', resource => 'opaque' }, other => { as => 'dpop', jkt => 'phone', resource => 'opaque' });
    my @call = ('stolen', path => $path);
    says($MISMATCH, "$path: the thief comes first", 'thief', @call);
    says('200', "$path: the owner", 'phone', @call);
    says($MISMATCH, "$path: another key", 'thief', @call);
    says($MISMATCH, "$path: a key of another kind", 'ps256-thief', @call);
    says('401 invalid_dpop_proof proof_missing', "$path: no proof", undef, @call);
    says('401 invalid_token dpop_scheme_required', "$path: as a bearer token", undef, @call, scheme => 'Bearer');
    says('401 invalid_token dpop_scheme_required', "$path: as a bearer token with the proof", 'phone', @call, scheme => 'Bearer');
    says('401 invalid_dpop_proof proof_method_mismatch', "$path: another method", 'phone', @call, proof => { method => 'DELETE' });
    says('401 invalid_dpop_proof proof_uri_mismatch', "$path: another URL", 'phone', @call, proof => { uri => 'https://api.test/other' });
    says('401 invalid_dpop_proof proof_token_mismatch', "$path: of another token of the same key", 'phone', @call, proof => { token => named_token('other') });
    says('200', "$path: that token", 'phone', 'other', path => $path);
    says('200', "$path: the owner again", 'phone', @call);
}
# rfc9449-6.2-b: who asks about a token sends no proof
my @asked = asked('/token/introspection');
is(scalar @asked, 2 + 6, 'introspections: of each token where they are remembered, and for all that could be the owner where they are not');
is(scalar(grep { $_->{headers}{dpop} } @asked), 0, 'none of them with a proof');
--- no_error_log
[error]

=== TEST 3: rfc9449-11.1-b: a request that was seen on its way is of no use to who saw it
--- run
for (['/jwt', 'as-jkt:phone'], ['/intro', 'opaque-jkt:phone']) {
    my ($path, $token) = @$_;
    my %seen = seen('phone', $token, path => $path);
    my @tried = (
        ['401 invalid_dpop_proof proof_uri_mismatch', 'at another path', path => "$path/other"],
        ['401 invalid_dpop_proof proof_method_mismatch', 'with another method', path => $path, method => 'DELETE'],
    );
    for (@tried) {
        my ($expected, $name, %how) = @$_;
        log_mark();
        check(call(%seen, %how), $expected, "$path: $name");
    }
    # Cannot happen on its way: all these came before the owner's own.
    for my $expected ('200', ('401 invalid_dpop_proof proof_replayed') x 3) {
        log_mark();
        check(call(%seen, path => $path), $expected, "$path: the same request: $expected");
    }
    # What is no part of the proof makes no other proof of it.
    log_mark();
    check(call(%seen, path => "$path?another=query"), '401 invalid_dpop_proof proof_replayed', "$path: with another query");
    log_mark();
    check(call(%seen, path => $path, cert => 'thief'), '401 invalid_dpop_proof proof_replayed', "$path: with a certificate");
    says('200', "$path: the owner, with a new one", 'phone', $token, path => $path);
}
--- no_error_log
[error]

=== TEST 4: rfc9449-11.1-b: nobody burns the jti of a proof whose key they lack
--- run
my $n = 0;
for (['/jwt', 'as-jkt:phone'], ['/intro', 'opaque-jkt:phone']) {
    my ($path, $token) = @$_;
    redis('FLUSHALL');
    says('200', "$path: to have the token's introspection where it is kept", 'phone', $token, path => $path);
    my $jti = 'jti-' . ++$n;
    my @call = ($token, path => $path);
    my $bad = '401 invalid_dpop_proof proof_signature_invalid';
    my @tried = (
        [$MISMATCH, 'with a key of their own', 'thief', @call, proof => { jti => $jti }],
        [$bad, "with the owner's key and a signature of their own", 'phone', @call, proof => { jti => $jti, signed_by => 'thief' }],
        [$bad, 'with a signature that has one bit more', 'phone', @call, proof => { jti => $jti, signature => sub { $_ ^= "\0" x 63 . "\1" } }],
        [$bad, 'without a signature', 'phone', @call, proof => { jti => $jti, signature => sub { $_ = '' } }],
        ['401 invalid_dpop_proof proof_uri_mismatch', 'at another URL', 'phone', @call, proof => { jti => $jti, uri => 'https://api.test/x' }],
        ['401 invalid_dpop_proof proof_token_mismatch', 'with another token', 'phone', @call, proof => { jti => $jti, token => 'x' }],
        ['401 invalid_dpop_proof proof_expired', 'too old', 'phone', @call, proof => { jti => $jti, iat => -70 }],
        # Their own token is good, and so is their proof: it is another one than the owner's.
        ['200', 'with a key and a token of their own', 'thief', $token =~ s/phone/thief/r, path => $path, proof => { jti => $jti }],
    );
    for (@tried) {
        my ($expected, $name, @sent) = @$_;
        says($expected, "$path: $name", @sent);
    }
    says('200', "$path: the owner", 'phone', @call, proof => { jti => $jti });
    says('401 invalid_dpop_proof proof_replayed', "$path: the owner again: only now it is used", 'phone', @call, proof => { jti => $jti });
}
--- no_error_log
[error]

=== TEST 5: rfc9449-7.1-a: what is refused leaves nothing behind: a proof is remembered last
--- engine
jwt = made()
scopes = made { scopes_required = { "admin" } }
nonce = made { dpop_use_nonce = true, dpop_nonce_secret = ("n"):rep(32) }
--- run
my $token = 'as-jkt:phone';
# The server's keys and its metadata are kept in Redis, too, and looked for there once.
call(sent('phone', $token, path => $_)) for qw(/jwt /scopes /nonce);
redis('FLUSHALL');
my %same = (jti => 'one', iat => 0);
says('403 insufficient_scope insufficient_scope', 'a token that is not enough', 'phone', $token, path => '/scopes', proof => \%same);
says('401 use_dpop_nonce proof_nonce_missing', 'no nonce', 'phone', $token, path => '/nonce', proof => \%same);
define(expired => { as => 'dpop', jkt => 'phone', resource => 'short' });
named_token('expired');
sleep 3;
says('401 invalid_token token_expired', 'a token that ended', 'phone', 'expired', path => '/jwt', proof => \%same);
is(scalar(my @kept = redis_keys()), 0, 'nothing is remembered');
says('200', 'the proof is as good as new', 'phone', $token, path => '/jwt', proof => \%same);
my @keys = redis_keys();
is(scalar @keys, 1, 'one entry');
cmp_ok($keys[0]{ttl}, '>', 55_000, 'for as long as the proof is good, ms');
cmp_ok($keys[0]{ttl}, '<=', 66_000, 'and not longer');
unlike($keys[0]{key} . $keys[0]{value}, qr/one|\Q@{[jkt('phone')]}\E/, 'neither jti nor key can be read in it');
--- timeout: 20
--- no_error_log
[error]

=== TEST 6: rfc9449-6.2-a: a token of the real server that was revoked, with the owner's proof
--- run
define(mine => { as => 'dpop', jkt => 'phone', resource => 'opaque' });
as_request('/token/revocation', { token => named_token('mine') }, client => 'dpop');
says('401 invalid_token token_inactive', 'revoked', 'phone', 'mine', path => '/intro');
says('200', 'another one', 'phone', 'opaque-jkt:phone', path => '/intro');
--- no_error_log
[error]

=== TEST 7: rfc9449-4.3-5: each kind of key, with tokens of the real server
--- calls
- as-jkt:es256 path=/jwt proof=es256       -> 200
- as-jkt:ps256 path=/jwt proof=ps256       -> 200
- as-jkt:eddsa path=/jwt proof=eddsa       -> 200
- opaque-jkt:ps256 path=/intro proof=ps256 -> 200
- opaque-jkt:eddsa path=/intro proof=eddsa -> 200
- opaque-jkt:eddsa path=/intro proof=ps256 -> 401 invalid_token proof_key_mismatch
# It is the key that is bound, not the algorithm; but this one is not taken.
- as-jkt:ps256 path=/jwt proof=ps256 alg=RS256 -> 401 invalid_dpop_proof proof_algorithm_refused
--- no_error_log
[error]
