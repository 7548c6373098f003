# Proof of possession by DPoP in OpenResty: the twelve checks of RFC 9449 §4.3, each with a request that passes and differs in that alone;
# schemes, and what a refused client is told.
use Keybound;
use Proofs;
use Test::Nginx::Socket 'no_plan';

# changed(NAME, VALUE): the token `jkt:phone` with a proof in which that claim is VALUE, or missing
sub changed {
    my ($name, $value) = @_;
    return mine(proof => defined $value ? { claims => { $name => $value } } : { without => [$name] });
}

run_tests();

__DATA__

=== TEST 1: 9449-7-a, 9449-7.1-a: who shows the key passes, with each kind of key, request and connection
--- calls
- jkt:phone proof=phone                         -> 200
- jkt:eddsa proof=eddsa                         -> 200
- jkt:ps256 proof=ps256                         -> 200
- jkt:phone proof=phone path=/a/b?c=d           -> 200
- jkt:phone proof=phone method=POST data=a=b    -> 200
- jkt:phone proof=phone method=HEAD             -> 200
- jkt:phone proof=phone method=PROPFIND         -> 200
- jkt:phone proof=phone h2                      -> 200
- jkt:phone proof=phone h2 method=PUT data=x    -> 200
- jkt:phone proof=phone tls=1.2                 -> 200
client jkt:phone proof=phone                    -> 200
-      both:client:phone proof=phone            -> 401 invalid_token confirmation_unsupported
- jkt:phone proof=                              -> 401 invalid_token proof_key_mismatch
- jkt:phone                                     -> 401 invalid_token dpop_scheme_required
- -                                             -> 401 - no_token
--- no_error_log
[error]

=== TEST 2: 9449-4.3-1: a DPoP header comes once, over HTTP/1.1 and HTTP/2, in one line and among many
--- run
# As many as fit, on both sides of what nginx and Lua look at by default.
my @many = map { "X-$_: $_" } 1 .. 250;
for my $h2 (0, 1) {
    my @how = (h2 => $h2);
    my $again = sub { return { mine(@how) }->{headers}[0] };
    for my $more ([], \@many) {
        my $n = @$more;
        tries('200', "h2=$h2, $n others: one", mine(@how, headers => $more));
        tries('401 invalid_dpop_proof proof_repeated', "h2=$h2, $n others: another one behind", mine(@how, headers => [$again->(), @$more]));
        tries('401 invalid_dpop_proof proof_repeated', "h2=$h2, $n others: one by another client before",
            mine(@how, headers => ['dpop: ' . proof('thief'), @$more]));
        tries('401 invalid_dpop_proof proof_repeated', "h2=$h2, $n others: without a value", mine(@how, headers => ['DPoP;', @$more]));
    }
    my %one = mine(@how);
    my ($first) = $one{headers}[0] =~ /^DPoP: (.*)/;
    tries('401 invalid_dpop_proof proof_repeated', "h2=$h2: the same one twice", %one, headers => [("DPoP: $first") x 2]);
    tries('401 invalid_dpop_proof proof_repeated', "h2=$h2: two in one line", %one, headers => ["DPoP: $first, $first"]);
    tries('401 invalid_dpop_proof proof_repeated', "h2=$h2: and without a space", %one, headers => ["DPoP: $first,"]);
    tries('200', "h2=$h2: none of these has used it", %one);
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 3: 9449-4.3-2: the header is one compact JWS
--- run
my %one = mine();
my ($proof) = $one{headers}[0] =~ /^DPoP: (.*)/;
my ($header, $payload, $signature) = split /\./, $proof;
for (['no dot', $header], ['one dot', "$header.$payload"], ['three dots', "$proof."], ['a padded part', "$header.$payload=.$signature"],
     ['a space in it', "$header .$payload.$signature"], ['no base64url', "$header.$payload.*"], ['not JSON', "eyJ.$payload.$signature"],
     ['another alphabet', "$header.$payload.+/" . substr $signature, 2], ['the token', { mine() }->{authorization} =~ s/^DPoP //r],
     ['too long', "$header.$payload.$signature" . 'A' x 4096]) {
    my ($name, $text) = @$_;
    tries('401 invalid_dpop_proof proof_malformed', $name, %one, headers => ["DPoP: $text"]);
}
tries('401 invalid_dpop_proof proof_malformed', 'empty', %one, headers => ['DPoP;']);
tries('401 invalid_dpop_proof proof_missing', 'missing', %one, headers => []);
tries('401 invalid_dpop_proof proof_missing', 'under another name', %one, headers => ["X-DPoP: $proof"]);
tries('200', 'whole', %one);
--- timeout: 30

=== TEST 4: 9449-4.3-3: jti, htm, htu, iat and ath are there, and of their types
--- run
for my $name (qw(jti htm htu iat ath)) {
    for my $value (undef, \'null', $name eq 'iat' ? '1' : 1, \'[]', \'{}', \'true', \'""') {
        tries('401 invalid_dpop_proof proof_malformed', "$name is " . (ref $value ? $$value : $value // 'absent'), changed($name, $value));
    }
}
tries('200', 'all of them', mine());
tries('200', 'and more', mine(proof => { claims => { iss => 'phone', nonce => 'unasked', exp => 1 } }));
tries('401 invalid_dpop_proof proof_malformed', 'jti: 257 octets', changed(jti => 'j' x 257));
tries('200', 'jti: 256 octets', changed(jti => 'j' x 256));
--- timeout: 30

=== TEST 5: 9449-4.3-4, 9449-11.5-a: typ says that it is a proof
--- calls
- jkt:phone proof=phone typ=JWT                     -> 401 invalid_dpop_proof proof_type_refused
- jkt:phone proof=phone typ=at+jwt                  -> 401 invalid_dpop_proof proof_type_refused
- jkt:phone proof=phone typ=dpop                    -> 401 invalid_dpop_proof proof_type_refused
- jkt:phone proof=phone typ=                        -> 401 invalid_dpop_proof proof_type_refused
- jkt:phone proof=phone typ=dpop+jwt                -> 200
- jkt:phone proof=phone typ=DPOP+JWT                -> 200
- jkt:phone proof=phone typ=application/dpop+jwt    -> 200

=== TEST 6: 9449-4.3-5, 9449-11.6-a: the algorithm is asymmetric and one of dpop_algorithms
--- engine
kb = dpop()
other = dpop { dpop_algorithms = { "ES384" } }
--- tls
location /other { access_by_lua_block { other:access() } content_by_lua_block { ngx.say("passed") } }
--- run
tries('401 invalid_dpop_proof proof_algorithm_refused', $_, mine(proof => { alg => $_ }))
    for qw(none None NONE HS256 RSA-OAEP es256 ES256K ES384 RS256);
tries('401 invalid_dpop_proof proof_algorithm_refused', 'of another kind of key', sent('rs256', 'jkt:rs256'));
tries('401 invalid_dpop_proof proof_key_refused', 'not that of its key', mine(proof => { alg => 'PS256' }));
tries('401 invalid_dpop_proof proof_algorithm_refused', 'not among the default ones', sent('es384', 'jkt:es384'));
tries('200', 'among them', mine());
log_mark();
my $response = call(sent('es384', 'jkt:es384', path => '/other'));
check($response, '200', 'where it is configured');
$response = call(mine(path => '/other'));
is(header($response, 'WWW-Authenticate'), 'DPoP error="invalid_dpop_proof", algs="ES384"', 'the others are not there, and the client reads so');

=== TEST 7: 9449-4.3-6: the signature is that of the key in the proof
--- run
tries('401 invalid_dpop_proof proof_signature_invalid', 'the first bit', mine(proof => { signature => sub { substr($_, 0, 1) ^= "\x80" } }));
tries('401 invalid_dpop_proof proof_signature_invalid', 'the last bit', mine(proof => { signature => sub { substr($_, -1) ^= "\1" } }));
tries('401 invalid_dpop_proof proof_signature_invalid', 'an octet less', mine(proof => { signature => sub { chop } }));
tries('401 invalid_dpop_proof proof_signature_invalid', 'nothing', mine(proof => { signature => sub { $_ = '' } }));
tries('401 invalid_dpop_proof proof_signature_invalid', 'all zero', mine(proof => { signature => sub { $_ = "\0" x 64 } }));
tries('401 invalid_dpop_proof proof_signature_invalid', 'by another key', mine(proof => { signed_by => 'thief' }));
tries('200', 'right', mine());
my %one = mine();
(my $changed = $one{headers}[0]) =~ s/\.[^.]+(?=\.)/'.' . (split \/\.\/, { mine() }->{headers}[0])[1]/e;
tries('401 invalid_dpop_proof proof_signature_invalid', 'the claims of another proof', %one, headers => [$changed]);
tries('200', 'its own', %one);

=== TEST 8: 9449-4.3-7: the key in the proof is a public one
--- run
tries('401 invalid_dpop_proof proof_key_refused', "with $_", mine(proof => { jwk => { $_ => 'AQAB' } })) for qw(d p q dp dq qi k);
tries('401 invalid_dpop_proof proof_key_refused', 'no key', mine(proof => { header => { jwk => \'null' } }));
tries('401 invalid_dpop_proof proof_key_refused', 'half of it', mine(proof => { without => ['y'] }));
tries('200', 'with a name', mine(proof => { jwk => { kid => 'one' } }));

=== TEST 9: 9449-4.3-8: htm is the method, letter by letter
--- calls
- jkt:phone proof=phone htm=POST                       -> 401 invalid_dpop_proof proof_method_mismatch
- jkt:phone proof=phone htm=get                        -> 401 invalid_dpop_proof proof_method_mismatch
- jkt:phone proof=phone htm=HEAD                       -> 401 invalid_dpop_proof proof_method_mismatch
- jkt:phone proof=phone htm=GET                        -> 200
- jkt:phone proof=phone htm=GET method=HEAD            -> 401 invalid_dpop_proof proof_method_mismatch
- jkt:phone proof=phone htm=HEAD method=HEAD           -> 200
- jkt:phone proof=phone htm=GET method=POST data=x     -> 401 invalid_dpop_proof proof_method_mismatch
- jkt:phone proof=phone htm=POST method=POST data=x    -> 200
- jkt:phone proof=phone htm=Report method=REPORT       -> 401 invalid_dpop_proof proof_method_mismatch
- jkt:phone proof=phone htm=REPORT method=REPORT       -> 200
- jkt:phone proof=phone htm=GET method=DELETE h2       -> 401 invalid_dpop_proof proof_method_mismatch
- jkt:phone proof=phone htm=DELETE method=DELETE h2    -> 200

=== TEST 10: 9449-4.3-9, 9449-4.3-9n: htu is the URI of the request, without query, both in normal form
--- tls
location /old { rewrite ^ /new last; }
--- run
for (['/a', 'https://api.test/a', 1], ['/a', 'HTTPS://API.Test:443/a', 1], ['/a?x=1', 'https://api.test/a?x=2#f', 1], ['/a/./b/../c', 'https://api.test/a/c', 1],
     ['/%7Euser', 'https://api.test/~user', 1], ['/%2fx', 'https://api.test/%2Fx', 1], ['/', 'https://api.test', 1], ['/old', 'https://api.test/old', 1],
     ['/a;v=1', 'https://api.test/a;v=1', 1], ['//a', 'https://api.test//a', 1],
     ['/a', 'https://api.test/A'], ['/a/', 'https://api.test/a'], ['/a', 'https://api.test:8443/a'], ['/a', 'http://api.test/a'], ['/a', 'https://api.test./a'],
     ['/a', 'https://other.test/a'], ['/%2fetc', 'https://api.test//etc'], ['//a', 'https://api.test/a'], ['/a', 'https://u:p@api.test/a'], ['/a', '/a'],
     ['/a', '*'], ['/a', 'urn:a'], ['/old', 'https://api.test/new'], ['/a', 'https://api.test/a ' ], ['/a', 'https://api.test\\/a'],
     ['/a', 'https://api.test/' . 'a' x 2048], ['/a', 'https://ap%69.test/a']) {
    my ($path, $htu, $is_good) = @$_;
    tries($is_good ? '200' : '401 invalid_dpop_proof proof_uri_mismatch', "$path: " . substr($htu, 0, 40), mine(path => $path, proof => { uri => $htu }));
}
--- timeout: 30

=== TEST 11: 9449-4.3-11, 9449-11.1-a: a proof is good from dpop_proof_leeway before its time to dpop_proof_lifetime after
--- engine
kb = dpop()
wide = dpop { dpop_proof_lifetime = 300, dpop_proof_leeway = 60 }
--- tls
location /wide { access_by_lua_block { wide:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
- jkt:phone proof=phone iat=-70               -> 401 invalid_dpop_proof proof_expired
- jkt:phone proof=phone iat=-50               -> 200
- jkt:phone proof=phone iat=15                -> 401 invalid_dpop_proof proof_issued_in_future
- jkt:phone proof=phone iat=3                 -> 200
- jkt:phone proof=phone path=/wide iat=-310   -> 401 invalid_dpop_proof proof_expired
- jkt:phone proof=phone path=/wide iat=-290   -> 200
- jkt:phone proof=phone path=/wide iat=70     -> 401 invalid_dpop_proof proof_issued_in_future
- jkt:phone proof=phone path=/wide iat=50     -> 200

=== TEST 12: 9449-4.3-12a: ath is the hash of the token
--- run
my $own = named_token('jkt:phone');
my $hash = ath($own);
define(second => { jkt => 'phone' });
tries('401 invalid_dpop_proof proof_token_mismatch', 'of another token', changed(ath => ath(named_token('second'))));
tries('401 invalid_dpop_proof proof_token_mismatch', 'of nothing', changed(ath => ath('')));
tries('401 invalid_dpop_proof proof_malformed', 'padded', changed(ath => "$hash="));
tries('401 invalid_dpop_proof proof_malformed', 'cut', changed(ath => substr $hash, 0, 42));
tries('401 invalid_dpop_proof proof_malformed', 'in base16', changed(ath => unpack 'H*', 'x' x 32));
tries('200', 'its own', changed(ath => $hash));
my %one = mine();
tries('401 invalid_dpop_proof proof_token_mismatch', 'with another token', %one, authorization => 'DPoP ' . named_token('second'));
tries('200', 'with its own', %one);

=== TEST 13: 9449-4.3-12b, 9449-6.1-a: the key is the one that the token is bound to, whoever signed rightly
--- calls
- jkt:phone proof=thief      -> 401 invalid_token proof_key_mismatch
- jkt:phone proof=eddsa      -> 401 invalid_token proof_key_mismatch
- jkt:thief proof=phone      -> 401 invalid_token proof_key_mismatch
- jkt:thief proof=thief      -> 200
- jkt:phone proof=phone      -> 200

=== TEST 14: 9449-7.1-b: the scheme is DPoP in any case, and then one token
--- run
my $token = named_token('jkt:phone');
for (["DPoP $token", 200], ["dpop $token", 200], ["DPOP $token", 200], ["dPoP   $token", 200], ["DPoP\t$token", '400 invalid_request malformed_authorization'],
     ["DPoP $token, DPoP $token", '400 invalid_request malformed_authorization'], ["DPoP $token x", '400 invalid_request malformed_authorization'],
     ['DPoP', '400 invalid_request malformed_authorization'], ["DPoPX $token", '401 - no_token'], ["DP0P $token", '401 - no_token'], ["Dpo $token", '401 - no_token'],
     ["Digest $token", '401 - no_token'], ["Basic $token", '401 - no_token']) {
    tries($_->[1], substr($_->[0], 0, 8), mine(), authorization => $_->[0]);
}

=== TEST 15: 9449-7.1-d: a token with the scheme in Proxy-Authorization is none
--- run
my %one = mine();
my $value = delete $one{authorization};
tries('401 - no_token', 'there', %one, headers => [@{ $one{headers} }, "Proxy-Authorization: $value"]);
tries('200', 'where it belongs', %one, authorization => $value);

=== TEST 16: 9449-7.2-a, 9449-7.2-b: how a token is bound, and how it is sent, go together in every mode
--- schemes: Bearer DPoP
--- engine
optional = dpop { proof_of_possession_dpop = "optional" }
both = dpop { proof_of_possession_dpop = "optional", proof_of_possession_mtls = "optional" }
either = dpop { proof_of_possession_mtls = "strict", proof_of_possession_either = true }
--- tls
location / { access_by_lua_block { optional:access() } content_by_lua_block { ngx.say("passed") } }
location /both { access_by_lua_block { both:access() } content_by_lua_block { ngx.say("passed") } }
location /either { access_by_lua_block { either:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
-      unbound           scheme=Bearer                          -> 200
-      unbound           scheme=Bearer proof=phone              -> 200
-      unbound           proof=phone                            -> 401 invalid_token token_not_dpop_bound
-      jkt:phone         scheme=Bearer                          -> 401 invalid_token dpop_scheme_required
-      jkt:phone         scheme=Bearer proof=phone              -> 401 invalid_token dpop_scheme_required
-      jkt:phone         scheme=DPoP                            -> 401 invalid_dpop_proof proof_missing
-      jkt:phone         proof=phone                            -> 200
client for:client        scheme=Bearer                          -> 401 invalid_token confirmation_unsupported
-      both:client:phone proof=phone                            -> 401 invalid_token confirmation_unsupported

-      unbound           scheme=Bearer path=/both               -> 200
-      unbound           proof=phone path=/both                 -> 401 invalid_token token_not_dpop_bound
client for:client        scheme=Bearer path=/both               -> 200
-      for:client        scheme=Bearer path=/both               -> 401 invalid_token certificate_missing
client for:client        proof=phone path=/both                 -> 401 invalid_token token_not_dpop_bound
client both:client:phone proof=phone path=/both                 -> 200
-      both:client:phone proof=phone path=/both                 -> 401 invalid_token certificate_missing
thief  both:client:phone proof=phone path=/both                 -> 401 invalid_token certificate_mismatch
client both:client:phone proof=thief path=/both                 -> 401 invalid_token proof_key_mismatch
client both:client:phone scheme=Bearer path=/both               -> 401 invalid_token dpop_scheme_required

-      unbound           scheme=Bearer path=/either             -> 401 invalid_token token_unbound
client for:client        scheme=Bearer path=/either             -> 200
thief  for:client        scheme=Bearer path=/either             -> 401 invalid_token certificate_mismatch
-      jkt:phone         proof=phone path=/either               -> 200
-      jkt:phone         scheme=Bearer path=/either             -> 401 invalid_token dpop_scheme_required
client both:client:phone proof=phone path=/either               -> 200
thief  both:client:phone proof=phone path=/either               -> 401 invalid_token certificate_mismatch
client both:client:phone proof=thief path=/either               -> 401 invalid_token proof_key_mismatch
--- no_error_log
[error]

=== TEST 17: 9449-7.1-c, 9449-7.2-c: challenges: what was wrong is told in that of the scheme that was used, which is the first; one header for all
--- engine
strict = dpop()
optional = dpop { proof_of_possession_dpop = "optional", realm = "api", dpop_algorithms = { "EdDSA", "ES256" }, scopes_required = { "read" } }
silent = dpop { proof_of_possession_dpop = "optional", expose_error_code = false, dpop_use_nonce = true, dpop_nonce_secret = ("s"):rep(32) }
--- tls
location / { access_by_lua_block { strict:access() } content_by_lua_block { ngx.say("passed") } }
location /optional { access_by_lua_block { optional:access() } content_by_lua_block { ngx.say("passed") } }
location /silent { access_by_lua_block { silent:access() } content_by_lua_block { ngx.say("passed") } }
--- run
define(poor => { claims => { scope => 'write' } }, poor_phone => { jkt => 'phone', claims => { scope => 'write' } }, old => { jkt => 'phone', claims => { exp => 2, iat => 1 } });
my $all = 'algs="ES256 PS256 EdDSA"';
my ($bearer, $dpop) = ('Bearer realm="api"', 'DPoP realm="api"');
my $algs = 'algs="EdDSA ES256"';
for (['/', 'no credentials', '401', "DPoP $all"],
     ['/', 'a token as Bearer', '401', "DPoP error=\"invalid_token\", $all", sent(undef, 'jkt:phone', scheme => 'Bearer')],
     ['/', 'no proof', '401', "DPoP error=\"invalid_dpop_proof\", $all", sent(undef, 'jkt:phone')],
     ['/', 'an expired token', '401', "DPoP error=\"invalid_token\", $all", sent('phone', 'old')],
     ['/optional', 'no credentials', '401', "$bearer, $dpop, $algs"],
     ['/optional', 'Bearer', '401', "$bearer, error=\"invalid_token\", $dpop, $algs", sent(undef, 'jkt:phone', scheme => 'Bearer')],
     ['/optional', 'DPoP', '401', "$dpop, error=\"invalid_dpop_proof\", $algs, $bearer", sent(undef, 'jkt:phone')],
     ['/optional', 'Bearer, without scope', '403', "$bearer, error=\"insufficient_scope\", scope=\"read\", $dpop, $algs", sent(undef, 'poor', scheme => 'Bearer')],
     ['/optional', 'DPoP, without scope', '403', "$dpop, error=\"insufficient_scope\", scope=\"read\", $algs, $bearer", sent('phone', 'poor_phone', path => '/optional')],
     ['/silent', 'DPoP', '401', "DPoP $all, Bearer", sent('phone', 'unbound', path => '/silent')],
     ['/silent', 'DPoP, and a nonce is asked for', '401', "DPoP error=\"use_dpop_nonce\", $all, Bearer", sent('phone', 'jkt:phone', path => '/silent')]) {
    my ($path, $name, $status, $challenge, %call) = @$_;
    my $response = call(%call, path => $path);
    is($response->{status}, $status, "$path: $name: status");
    is(join(' AND ', header($response, 'WWW-Authenticate')), $challenge, "$path: $name: challenge");
}

=== TEST 18: what only reports says why, and lets token and proof through as they came
--- engine
kb = dpop { report_only = true }
--- tls
location / { access_by_lua_block { kb:access() } content_by_lua_block {
    local headers = ngx.req.get_headers(0, true)
    ngx.print(ngx.ctx.keybound.reason, " ", headers.Authorization:match("^%a+"), " ", headers.DPoP and "proof" or "-")
} }
--- run
is(call(sent('thief', 'jkt:phone'))->{body}, 'proof_key_mismatch DPoP proof', 'another key');
is(call(mine())->{body}, 'allowed Bearer -', 'the right one');
--- error_log
reported, reason=proof_key_mismatch
