# DPoP in the Kong plugin: what Kong does to a request, and what it configures; the checks themselves are the engine's (t/160-dpop.t).
use Kong;
use Dpop;
use Test::Nginx::Socket 'no_plan';

our ($TRUE, $FALSE) = (JSON::PP::true, JSON::PP::false);
# dpop(OPTION => VALUE...): an instance that takes proofs
sub dpop { return keybound(proof_of_possession_dpop => 'strict', public_origin => ['https://api.test'], shared_dict => 'keybound', @_) }
sub mine { return sent('phone', 'jkt:phone', @_) }
sub tries {
    my ($expected, $name, %call) = @_;
    log_mark();
    my $response = call(%call);
    check($response, $expected, $name);
    return $response;
}
# saw(RESPONSE): how the token and its proof came to the upstream
sub saw {
    my ($response) = @_;
    return upstream_saw($response, 'authorization|dpop') =~ s/(\w+): (?:(DPoP|Bearer) )?[^|]*/$2 ? "$1: $2" : $1/egr;
}
sub nonces { return (dpop_use_nonce => $TRUE, dpop_nonce_secret => 'n' x 32, @_) }

run_tests();

__DATA__

=== TEST 1: 9449-7-a, 9449-4.3-1, 9449-4.3-8, 9449-4.3-9, 9449-11.1-b: who shows the key passes once, and nobody else
--- kong eval
+{ plugins => [main::dpop()] }
--- schemes: DPoP
--- run
for my $h2 (0, 1) {
    my @how = (h2 => $h2);
    my %one = mine(@how, path => '/a?b=c');
    is(saw(tries('200', 'own key', %one)), 'authorization: Bearer', 'the upstream gets the token as Bearer');
    tries('401 invalid_dpop_proof proof_replayed', 'again', %one);
    tries('401 invalid_token proof_key_mismatch', 'another key', sent('thief', 'jkt:phone', @how));
    tries('401 invalid_dpop_proof proof_method_mismatch', 'another method', mine(@how, method => 'POST', proof => { method => 'GET' }));
    tries('200', 'its own method', mine(@how, method => 'POST'));
    tries('401 invalid_dpop_proof proof_uri_mismatch', 'another path', mine(@how, path => '/a', proof => { uri => 'https://api.test/b' }));
    tries('200', 'its own path', mine(@how, path => '/a'));
    tries('401 invalid_token dpop_scheme_required', 'as Bearer', token => 'jkt:phone', @how);
    tries('401 invalid_dpop_proof proof_missing', 'without a proof', sent(undef, 'jkt:phone', @how));
    tries('401 invalid_token token_not_dpop_bound', 'a token that is not bound', sent('phone', 'unbound', @how));
    tries('401 - no_token', 'nothing', @how);
    my @many = map { "X-$_: $_" } 1 .. 150;
    for my $more ([], \@many) {
        tries('401 invalid_dpop_proof proof_repeated', @$more . ' others, two proofs', mine(@how, headers => ['DPoP: a', @$more]));
        tries('200', @$more . ' others, one proof', mine(@how, headers => $more));
    }
    tries('401 invalid_dpop_proof proof_over_plain_http', 'plain HTTP', mine(plain => 1));
}
--- timeout: 30
--- no_error_log
[error]

=== TEST 2: likewise in Kong 3.4
--- flavour: 3.4
--- kong eval
+{ plugins => [main::dpop()] }
--- schemes: DPoP
--- run
my %one = mine();
is(saw(tries('200', 'own key', %one)), 'authorization: Bearer', 'the upstream gets the token as Bearer');
tries('401 invalid_dpop_proof proof_replayed', 'again', %one);
tries('401 invalid_token proof_key_mismatch', 'another key', sent('thief', 'jkt:phone'));
tries('401 invalid_dpop_proof proof_repeated', 'two', mine(headers => ['DPoP: a']));

=== TEST 3: 9449-7.1-c, 9449-7.2-a: beside Bearer: one header with both challenges; a stray proof does not go on
--- kong eval
+{ plugins => [main::dpop(proof_of_possession_dpop => 'optional')] }
--- schemes: Bearer DPoP
--- run
is(header(tries('401 - no_token', 'nothing'), 'WWW-Authenticate'), 'Bearer, DPoP algs="ES256 PS256 EdDSA"', 'both');
is(saw(tries('200', 'a token that is not bound', token => 'unbound', headers => ['DPoP: a', 'DPoP: b'])), 'authorization: Bearer', 'and nothing else of it');
tries('401 invalid_token dpop_scheme_required', 'one that is', token => 'jkt:phone');
tries('200', 'with its proof', mine());
tries('401 invalid_token confirmation_unsupported', 'bound to a certificate', cert => 'client', token => 'bound');

=== TEST 4: the upstream gets both as they came, or neither, by option
--- kong eval
+{ main::routes(as_it_came => [main::dpop(upstream_dpop_as_bearer => $main::FALSE)], hidden => [main::dpop(hide_credentials => $main::TRUE)],
    preflight => [main::dpop(hide_credentials => $main::TRUE, run_on_preflight => $main::FALSE)]) }
--- run
is(saw(call(mine(path => '/as_it_came/'))), 'authorization: DPoP|dpop', 'as it came');
my ($line) = serialized();
is(join(' ', @{ $line->{request}{headers} }{qw(authorization dpop)}), 'REDACTED REDACTED', 'in the log neither is shown');
is(saw(call(mine(path => '/hidden/'))), '', 'hidden');
is(saw(call(mine(path => '/preflight/', method => 'OPTIONS', headers => ['Origin: https://a.test', 'Access-Control-Request-Method: GET']))), '', 'nor with a preflight');

=== TEST 5: 9449-9-a, 9449-8-b, 9449-8.2-a: nonces: given with a refusal and before they end; the upstream's own do not come through
--- kong eval
+{ consumers => [{ username => 'guest' }], main::routes(short => [main::dpop(main::nonces(dpop_proof_lifetime => 4))],
    guest => [main::dpop(main::nonces(anonymous => 'guest', anonymous_on_failed_binding => $main::TRUE))]) }
--- upstream
location / { add_header DPoP-Nonce upstream; add_header Cache-Control max-age=60; return 200 passed; }
--- schemes: DPoP
--- run
my $response = tries('401 use_dpop_nonce proof_nonce_missing', 'none', mine(path => '/short/'));
my @nonces = header($response, 'DPoP-Nonce');
is(scalar @nonces, 1, 'one is given');
is(join(' ', header($response, 'Cache-Control')), 'no-store', 'nobody keeps it');
$response = tries('200', 'with it', mine(path => '/short/', proof => { nonce => $nonces[0] }));
is(join(' ', header($response, 'DPoP-Nonce'), header($response, 'Cache-Control')), 'max-age=60', 'no other');
select undef, undef, undef, 2.1;
$response = tries('200', 'ageing', mine(path => '/short/', proof => { nonce => $nonces[0] }));
my @next = header($response, 'DPoP-Nonce');
is(scalar @next, 1, 'another one');
ok($next[0] ne $nonces[0] && $next[0] ne 'upstream', 'ours');
is(join(' ', header($response, 'Cache-Control')), 'no-store', 'nobody keeps it');
tries('200', 'it is good', mine(path => '/short/', proof => { nonce => $next[0] }));
is(header(call(path => '/'), 'DPoP-Nonce'), 'upstream', 'elsewhere it comes through');
for (['refused for its nonce', mine(path => '/guest/')], ['without a token', path => '/guest/']) {
    my ($name, %call) = @$_;
    $response = call(%call);
    is(join(' ', $response->{status}, header($response, 'DPoP-Nonce')), '200', "not where it passes as anonymous, $name");
}
--- timeout: 20

=== TEST 6: who did not prove possession does not pass as anonymous; who showed nothing does
--- kong eval
+{ plugins => [main::dpop(main::nonces(anonymous => 'guest', hide_credentials => $main::TRUE))], consumers => [{ username => 'guest' }],
    main::routes(named => [main::dpop(anonymous => 'guest', anonymous_on_failed_binding => $main::TRUE, hide_credentials => $main::TRUE)]) }
--- schemes: DPoP
--- run
is(call()->{status}, 200, 'nothing');
tries('401 use_dpop_nonce proof_nonce_missing', 'without a nonce', mine());
tries('401 invalid_dpop_proof proof_missing', 'without a proof', sent(undef, 'jkt:phone'));
tries('401 invalid_token proof_key_mismatch', 'another key', sent('thief', 'jkt:phone', proof => { nonce => header(call(mine()), 'DPoP-Nonce') }));
tries('401 invalid_token dpop_scheme_required', 'as Bearer', token => 'jkt:phone');
tries('401 invalid_token token_not_dpop_bound', 'not bound', sent('phone', 'unbound'));
my $response = call(sent('thief', 'jkt:phone', path => '/named/'));
is("$response->{status} " . saw($response), '200 ', 'by name, and then without token and proof');

=== TEST 7: proxies that are trusted by the option, whatever kong.conf says
--- trusted
--- kong eval
+{ main::routes(inner => [main::dpop(trusted_ips => ['127.0.0.1', 'unix:'])], outer => [main::dpop(trusted_ips => ['10.0.0.0/8'])], named => [main::dpop(public_origin => undef, trusted_ips => ['127.0.0.0/8'])]) }
--- schemes: DPoP
--- run
my @proto = (plain => 1, headers => ['X-Forwarded-Proto: https']);
tries('200', 'the proxy says that it was TLS', mine(@proto, path => '/inner/'));
tries('401 invalid_dpop_proof proof_over_plain_http', 'somebody else does', mine(@proto, path => '/outer/'));
tries('200', 'its host', mine(path => '/named/', headers => ['X-Forwarded-Host: pub.test'], proof => { uri => 'https://pub.test/named/' }));
tries('401 invalid_dpop_proof proof_uri_mismatch', 'not that of the request', mine(path => '/named/'));

=== TEST 8: listeners are asked for certificates where tokens are held to them
--- kong eval
+{ plugins => [main::keybound()] }
--- run
my $asks = sub { return s_client(cert => '-')->{error} . (command('', 'sh', '-c', "echo | openssl s_client -connect 127.0.0.1:$Keybound::TLS_PORT -servername api.test 2>&1"))[1] };
for ([1, 'by default', keybound()], [0, 'with proofs', dpop()], [1, 'with proofs and certificates', dpop(proof_of_possession_mtls => 'optional')],
     [1, 'with no proofs', keybound(proof_of_possession_dpop => 'off')], [0, 'off', keybound(proof_of_possession_mtls => 'off')]) {
    my ($expected, $name, $plugin) = @$_;
    is(kong_reload({ plugins => [$plugin] }), undef, "$name: accepted");
    is($asks->() =~ /Requested Signature Algorithms/ ? 1 : 0, $expected, $name);
}

=== TEST 9: what cannot be used is refused when it is written, at the field
--- env
NONCES=0123456789012345678901234567890123456789
--- run
sub error { my ($error) = values(%{ (plugin_errors('keybound', $_[0]{config}) // return 'accepted')->{config} }); return $error }
sub field { my $errors = plugin_errors('keybound', $_[0]{config}) // return 'accepted'; return join ' ', keys %{ $errors->{config} } }
is(field(dpop()), 'accepted', 'strict');
is(field(dpop(shared_dict => undef)), 'shared_dict', 'no store');
is(error(dpop(shared_dict => undef)), 'required for logins, sessions and proofs, or redis: what all workers must know is kept there', 'and why');
is(field(dpop(shared_dict => undef, insecure_dpop_replay => $TRUE)), 'accepted', 'unless that is meant');
is(field(dpop(shared_dict => undef, redis => { host => 'localhost', port => 6379 }, store_secret => 's' x 32)), 'accepted', 'a Redis');
is(field(dpop(public_origin => undef)), 'public_origin', 'no origin');
is(field(dpop(public_origin => ['http://api.test'])), 'public_origin', 'not https');
is(field(dpop(public_origin => undef, trusted_ips => ['10.0.0.0/8'])), 'accepted', 'proxies that say it');
is(field(dpop(trusted_ips => ['10.0.0.0/40'])), 'trusted_ips', 'no network');
is(field(dpop(dpop_use_nonce => $TRUE)), 'dpop_nonce_secret', 'no secret');
is(field(dpop(nonces())), 'accepted', 'with one');
is(field(dpop(nonces(dpop_nonce_secret => 'short'))), 'dpop_nonce_secret', 'a short one');
is(field(dpop(nonces(dpop_nonce_secret => '{vault://env/nonces}'))), 'accepted', 'a reference');
is(field(dpop(nonces(dpop_nonce_secret => '{vault://env/nonces}', public_path_prefix => 'a'))), 'public_path_prefix', 'and what is wrong besides');
is(field(dpop(dpop_algorithms => ['HS256'])), 'dpop_algorithms', 'no algorithm for proofs');
is(field(dpop(dpop_proof_lifetime => 0)), 'dpop_proof_lifetime', 'no time');
is(field(dpop(proof_of_possession_either => $TRUE)), 'proof_of_possession_either', 'either, of one');
is(field(dpop(proof_of_possession_either => $TRUE, proof_of_possession_mtls => 'strict')), 'accepted', 'of two');
is(field(keybound(public_origin => ['https://api.test'])), 'public_origin', 'without proofs it has no effect');
is(field(dpop(inject_client_cert_details => $TRUE)), 'inject_client_cert_details', 'nothing vouches for certificates');
is(field(dpop(inject_client_cert_details => $TRUE, proof_of_possession_mtls => 'optional')), 'accepted', 'something does');

=== TEST 10: nonces end with the secret that their vault has for them; a used proof is known to the engine that is made anew
--- env
NONCES=oooooooooooooooooooooooooooooooo
--- kong eval
+{ plugins => [main::dpop(dpop_use_nonce => $main::TRUE, dpop_nonce_secret => '{vault://env/nonces}')] }
--- schemes: DPoP
--- run
my $nonce = header(tries('401 use_dpop_nonce proof_nonce_missing', 'none', mine()), 'DPoP-Nonce');
my %one = mine(proof => { nonce => $nonce });
tries('200', 'with it', %one);
tries('200', 'with it, too', mine(proof => { nonce => $nonce }));
kong_rotate(nonces => 'p' x 32);
# An instance looks at what its references stand for each second.
select undef, undef, undef, 1.2;
tries('401 use_dpop_nonce proof_nonce_invalid', 'after the secret', mine(proof => { nonce => $nonce }));
kong_reload({ plugins => [dpop(dpop_proof_lifetime => 50)] });
tries('401 invalid_dpop_proof proof_replayed', 'the same proof, after a change of the configuration', %one);
tries('200', 'another', mine());
