# DPoP and TLS 1.3 early data, which can be played again by whoever saw it: a proof in it proves nothing, and is not used up by it.
use Keybound;
use Dpop;
use Test::Nginx::Socket 'no_plan';

# early(\&CALL): the answer to a call in early data, and the call. Each session can send some once; when nginx is slow, the handshake is
# over before it reads the request, and another call is tried.
sub early {
    my ($make) = @_;
    my $session = "$RUN/early-session";
    for (1 .. 30) {
        s_client(path => '/session', tls => '1.3', save => $session);
        my %call = $make->();
        log_mark();
        my $response = s_client(%call, tls => '1.3', resume => $session, early => 1);
        return ($response, %call) if header($response, 'X-Early');
    }
    die "no early data\n";
}

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => "lua_shared_dict proofs 1m;\nssl_session_cache shared:tls:1m;\n");
    $block->set_value(engine => <<'EOL');
        local function dpop(mode, more)
            local config = { proof_of_possession_dpop = mode, public_origin = "https://api.test" }
            for name, value in pairs(more or {}) do
                config[name] = value
            end
            return engine(config, { store = "proofs" })
        end
        kb, optional = dpop("strict"), dpop("optional")
        nonce = dpop("strict", { dpop_use_nonce = true, dpop_nonce_secret = ("n"):rep(32) })
EOL
    $block->set_value(tls => <<'EOC');
        ssl_early_data on;
        add_header X-Early $ssl_early_data always;
        location = /session { return 200; }
        location ~ ^/(\w+) {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
});

# 425, and then the very same proof passes, once
sub too_early {
    my ($path, %proof) = @_;
    my ($response, %call) = early(sub { sent('phone', 'jkt:phone', path => $path, proof => \%proof) });
    check($response, '425 - early_data', "$path: a proof in early data");
    for my $expected ('200', '401 invalid_dpop_proof proof_replayed') {
        log_mark();
        check(call(%call), $expected, "$path: the same proof without early data: $expected");
    }
}

run_tests();

__DATA__

=== TEST 1: rfc9449-11.1-a: a proof in early data: 425, and the same proof passes when the handshake is over
--- schemes: DPoP
--- run
too_early('/kb');
too_early('/nonce', nonce => scalar header(call(sent('phone', 'jkt:phone', path => '/nonce')), 'DPoP-Nonce'));
--- no_error_log
[error]

=== TEST 2: rfc9449-11.1-a: the same where bearer tokens pass, too, and with these
--- schemes: Bearer DPoP
--- run
too_early('/optional');
my ($response, %call) = early(sub { (token => 'unbound', path => '/optional') });
check($response, '425 - early_data', 'a bearer token in early data');
log_mark();
check(call(%call), '200', 'a bearer token without early data');
--- no_error_log
[error]
