# Proof of possession by certificate in the nginx module: every mode with every kind of token and certificate, over each version of TLS and
# HTTP, on connections that are kept and sessions that are resumed.
use Module;
use Binding;
use Test::Nginx::Socket 'no_plan';

# `--- matrix: MODE OPTION...` stands for the tokens, the directive and the calls of that part of the table of Binding.pm.
add_block_preprocessor(sub {
    my ($block) = @_;
    my ($mode, @options) = split ' ', $block->matrix // return;
    set_matrix($block, $mode, @options);
    $block->set_value(tls => "keybound_mode $mode;\n");
});

# Resumes a session and tells whether nginx really did: the second response.
sub resumed {
    my ($first, $second) = @_;
    my $session = "$RUN/session";
    unlink $session;
    my @one = s_client(%$first, save => $session);
    is($one[0]{status}, $first->{status}, 'a full handshake');
    log_mark();
    my $response = s_client(%$second, tls => $first->{tls}, resume => $session);
    is(join(',', header($response, 'X-Reused')), 'r', 'the session is resumed');
    return $response;
}

run_tests();

__DATA__

=== TEST 1: 8705-3-b, 8705-3-f: strict, TLS 1.3
--- matrix: strict tls=1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 2: 8705-3-b, 8705-3-f: strict, TLS 1.2
--- matrix: strict tls=1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 3: 8705-3-b, 8705-3-f: strict, HTTP/2
--- matrix: strict h2=1
--- no_error_log
[error]
[crit]
[alert]

=== TEST 4: 8705-3-e: optional, TLS 1.3
--- matrix: optional tls=1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 5: 8705-3-e: optional, TLS 1.2
--- matrix: optional tls=1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 6: off, TLS 1.3: the token alone decides
--- matrix: off tls=1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 7: off, TLS 1.2: the token alone decides
--- matrix: off tls=1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 8: certificates of every key type, by a CA or by themselves
--- calls
rsa         for:rsa         -> 200
ed25519     for:ed25519     -> 200
self-signed for:self-signed -> 200
thief       for:thief       -> 200
rsa         for:ed25519     -> 401 invalid_token certificate_mismatch
ed25519     for:self-signed -> 401 invalid_token certificate_mismatch
self-signed for:thief       -> 401 invalid_token certificate_mismatch
thief       for:rsa         -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 9: 8705-3-b: the same subject with another key is another certificate
--- calls
client    for:client    -> 200
same-name for:client    -> 401 invalid_token certificate_mismatch
same-name for:same-name -> 200
--- no_error_log
[error]

=== TEST 10: a connection that is kept: each request is decided by its own token, remembered or not
--- tokens eval
+{ second => { for => 'client' } }
--- run
for my $h2 (0, 1) {
    my @tokens = qw(bound for:thief bound second unbound second bound);
    log_mark();
    my @responses = calls_on_one_connection(map { { cert => 'client', token => $_, h2 => $h2 } } @tokens);
    is(join(' ', map { $_->{status} // '-' } @responses), '200 401 200 200 401 200 200', 'statuses');
    is(join(' ', map { $_->{connected} } @responses), '1 0 0 0 0 0 0', 'one connection');
    is(join(' ', reasons()), '401 certificate_mismatch 401 token_unbound', 'reasons');
    log_mark();
    @responses = calls_on_one_connection(map { { cert => 'thief', token => $_, h2 => $h2 } } @tokens);
    is(join(' ', map { $_->{status} // '-' } @responses), '401 200 401 401 401 401 401', 'of a thief, the remembered ones, too');
}
--- no_error_log
[error]

=== TEST 11: 8705-3-a: a resumed session has the certificate of its handshake
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
add_header X-Reused $ssl_session_reused always;
--- run
for my $tls ('1.2', '1.3') {
    my $first = { cert => 'client', token => 'bound', tls => $tls, status => 200 };
    # The last two hold another certificate now, and have not shown it.
    for (['bound', '-', '200'], ['for:thief', '-', '401 invalid_token certificate_mismatch'], ['bound', 'thief', '200'],
         ['for:thief', 'thief', '401 invalid_token certificate_mismatch']) {
        my ($token, $cert, $expected) = @$_;
        check(resumed($first, { cert => $cert, token => $token }), $expected, "TLS $tls: $token with $cert");
    }
    check(resumed({ token => 'bound', tls => $tls, status => 401 }, { cert => 'client', token => 'bound' }), '401 invalid_token certificate_missing',
        "TLS $tls: the certificate comes too late");
}
--- no_error_log
[error]

=== TEST 12: early data proves no key: it is refused, and the same request after the handshake passes
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
ssl_early_data on;
add_header X-Early $ssl_early_data always;
--- run
my ($session, $response, $got) = "$RUN/early-session";
# Each session can send early data once. Where nginx is slow, the handshake is over before it reads the request: then the key is proved.
for (1 .. 30) {
    is(s_client(cert => 'client', token => 'bound', tls => '1.3', save => $session)->{status}, 200, 'a full handshake');
    log_mark();
    $response = s_client(cert => 'client', token => 'bound', tls => '1.3', resume => $session, early => 1);
    $got = join ' ', $response->{status}, reasons();
    last if header($response, 'X-Early');
}
SKIP: {
    skip 'valgrind is too slow for it', 1 if $ENV{TEST_NGINX_USE_VALGRIND} && $got =~ /^200/;
    is($got, '425 425 early_data', 'early');
}
log_mark();
check(scalar s_client(cert => 'client', token => 'bound', tls => '1.3', resume => $session), '200', 'not early');
--- no_error_log
[error]

=== TEST 13: client_certificate_validity: the dates of the certificate are looked at on every request
--- init
dated('future', 3600, 7200)
--- engine
kb: { "client_certificate_validity": true }
unchecked:
--- tls
error_page 495 = @again;
location @again { $PROXY; }
location /unchecked { error_page 495 = @unchecked; keybound_config $KB/unchecked.json; $PROXY; }
location @unchecked { keybound_config $KB/unchecked.json; $PROXY; }
--- run
# nginx refuses such certificates itself, and error_page leads to keybound, which keeps to that.
for my $cert (qw(expired future)) {
    refuses({ cert => $cert, token => "for:$cert" }, '401 invalid_token certificate_refused', $cert);
}
passes({ cert => 'client', token => 'bound' }, 'a good one');
--- no_error_log
[error]

=== TEST 14: nginx's own verdict comes first: what ssl_verify_client on refuses, is refused by nginx
--- tls
ssl_verify_client on;
ssl_client_certificate $PKI/ca.crt;
--- calls
client      bound           -> 200
client      for:thief       -> 401 invalid_token certificate_mismatch
-           bound           -> 400 nginx
self-signed for:self-signed -> 400 nginx
--- no_error_log
[error]
