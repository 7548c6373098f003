# The clients of t/170 and the thieves of t/171 at the nginx module: real libraries, and tokens that a real authorization server bound to
# their keys.
use Module;
use Dpop;
use Test::Nginx::Socket 'no_plan';

# The module's engine files are JSON; `keys` has JWTs and the server's keys, `basic` introspects.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $dpop = '"proof_of_possession_dpop": "strict", "public_origin": ["https://$TLS", "https://api.test"]';
    my $nonce = '"dpop_use_nonce": true, "dpop_nonce_secret": "' . 'nonce' x 8 . '"';
    my $engine = <<"EOE";
kb:
jwt: keys { $dpop }
intro: basic { $dpop }
jwt_nonce: keys { $dpop, $nonce, "dpop_proof_lifetime": 4 }
intro_nonce: basic { $dpop, $nonce }
EOE
    $block->set_value(engine => Keybound::_replace($engine));
    $block->set_value(http_config => "keybound_zone kb 1m;\n");
    $block->set_value(schemes => 'DPoP');
});

our @LIBRARIES = qw(oauth4webapi openid-client dpop);

# goes(NONCE, %how): ten calls, all of them 200, after one challenge where the gateway wants a nonce; what the client said
sub goes {
    my ($nonce, %how) = @_;
    my $said = client(%how);
    my @asked = $nonce ? 'DPoP error="use_dpop_nonce", algs="ES256 PS256 EdDSA"' : ();
    is(json([ @$said{qw(statuses challenges error)} ]), json([ [ (200) x 10 ], \@asked, undef ]), join ' ', map { "$_=$how{$_}" } sort keys %how);
    return $said;
}

run_tests();

__DATA__

=== TEST 1: rfc9449-7-a: clients as they are, with JWTs and opaque tokens; nonces of the gateway they take by themselves, and are asked for one once
--- run
for my $with (@LIBRARIES) {
    goes(0, with => $with, path => '/jwt');
    goes(0, with => $with, path => '/intro/a?b', resource => 'opaque', client => 'dpop-nonce', method => 'POST');
    goes(1, with => $with, path => '/intro_nonce', resource => 'opaque');
    # Longer than a nonce lives
    cmp_ok(goes(1, with => $with, path => '/jwt_nonce', pause => 700)->{nonces}, '>=', 3, 'nonces of six seconds');
}
--- timeout: 90
--- no_error_log
[error]

=== TEST 2: rfc9449-6-b: tokens in other hands: another key, no proof, no DPoP at all, a proof of something else
--- calls
- as-jkt:phone path=/jwt proof=phone                             -> 200
- as-jkt:phone path=/jwt proof=thief                             -> 401 invalid_token proof_key_mismatch
- as-jkt:phone path=/jwt scheme=DPoP                             -> 401 invalid_dpop_proof proof_missing
- as-jkt:phone path=/jwt                                         -> 401 invalid_token dpop_scheme_required
- as-jkt:phone path=/jwt scheme=Bearer proof=phone               -> 401 invalid_token dpop_scheme_required
- as-jkt:phone path=/jwt proof=phone htm=POST                    -> 401 invalid_dpop_proof proof_method_mismatch
- as-jkt:phone path=/jwt proof=phone htu=https://api.test/intro  -> 401 invalid_dpop_proof proof_uri_mismatch
- as-jkt:thief path=/jwt proof=thief                             -> 200
- as-jkt:thief path=/jwt proof=phone                             -> 401 invalid_token proof_key_mismatch
- opaque-jkt:phone path=/intro proof=thief                       -> 401 invalid_token proof_key_mismatch
- opaque-jkt:phone path=/intro proof=phone                       -> 200
- opaque-jkt:phone path=/intro proof=thief                       -> 401 invalid_token proof_key_mismatch
- opaque-jkt:phone path=/intro scheme=DPoP                       -> 401 invalid_dpop_proof proof_missing
- opaque-jkt:phone path=/intro                                   -> 401 invalid_token dpop_scheme_required
- opaque-jkt:phone path=/intro proof=phone htm=POST              -> 401 invalid_dpop_proof proof_method_mismatch
- opaque-jkt:phone path=/intro proof=phone                       -> 200
--- no_error_log
[error]

=== TEST 3: rfc9449-11.1-b: nobody burns the jti of a proof whose key they lack
--- calls
- as-jkt:phone path=/jwt proof=thief jti=one  -> 401 invalid_token proof_key_mismatch
- as-jkt:thief path=/jwt proof=thief jti=one  -> 200
- as-jkt:phone path=/jwt proof=phone jti=one  -> 200
- as-jkt:phone path=/jwt proof=phone jti=one  -> 401 invalid_dpop_proof proof_replayed
- as-jkt:thief path=/jwt proof=thief jti=one  -> 401 invalid_dpop_proof proof_replayed
--- no_error_log
[error]
