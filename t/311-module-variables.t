# The variables of the nginx module: in headers for the upstream, in logs, in maps; what they are before, after and without a decision.
use Module;
use Test::Nginx::Socket 'no_plan';

# What went into the access log as log_format `kb`, in order; it is written after the answer.
sub logged {
    my ($n) = @_;
    my @lines;
    until_true(2, sub { @lines = -e "$RUN/kb.log" ? split /\n/, read_file("$RUN/kb.log") : (); @lines >= $n });
    write_file("$RUN/kb.log", '');
    return @lines;
}

add_block_preprocessor(sub {
    my ($block) = @_;
    unlink "$RUN/kb.log";
    my $http = $block->http_config // '';
    $block->set_value(http_config => $http . 'log_format kb "$keybound_decision|$keybound_reason|$keybound_subject|$keybound_client_id|$keybound_scope|$keybound_thumbprint|$keybound_claim_email";' . "\n");
    $block->set_value(tls => "access_log \$RUN/kb.log kb;\n" . ($block->tls // ''));
});

run_tests();

__DATA__

=== TEST 1: of an allowed request: all of them, in a log_format
--- tokens eval
+{ mail => { for => 'client', claims => { email => 'user@example.org', scope => 'read write' } } }
--- run
my $own = thumbprint('client');
passes({ cert => 'client', token => 'bound' }, 'no such claim');
passes({ cert => 'client', token => 'mail' }, 'a claim');
passes({ cert => 'client', token => 'mail' }, 'a claim, remembered');
is(join("\n", logged(3)), join("\n", "allow|allowed|user-1|client-1|read|$own|-", ("allow|allowed|user-1|client-1|read write|$own|user\@example.org") x 2), 'the log');
--- no_error_log
[error]

=== TEST 2: of a refused request: why, and nothing of a token that is good for nothing here
--- tokens eval
+{ mail => { for => 'client', claims => { email => 'user@example.org' } } }
--- run
my ($own, $thief) = map { thumbprint($_) } qw(client thief);
call(%$_) for { cert => 'thief', token => 'mail' }, { cert => 'client', token => 'forged' }, { cert => 'client' }, { token => 'mail' }, { cert => 'client', token => 'bound', path => '/?access_token=x' };
is(join("\n", logged(5)), join("\n", "deny|certificate_mismatch|-|-|-|$thief|-", "deny|signature_invalid|-|-|-|$own|-", "deny|no_token|-|-|-|$own|-", 'deny|certificate_missing|-|-|-|-|-',
    "deny|several_tokens|-|-|-|$own|-"), 'the log');
--- no_error_log
[error]

=== TEST 3: of a request that is only reported: what it would be refused for, and no claims
--- tls
keybound report;
--- run
my ($own, $thief) = map { thumbprint($_) } qw(client thief);
is(call(cert => 'thief', token => 'bound')->{status}, 200, 'passes');
is(call(cert => 'client', token => 'bound')->{status}, 200, 'its twin');
is(join("\n", logged(2)), "report|certificate_mismatch|-|-|-|$thief|-\nallow|allowed|user-1|client-1|read|$own|-", 'the log');
--- no_error_log
[error]

=== TEST 4: where keybound is off there is no decision; the thumbprint is there all the same
--- tls
location /off { keybound off; $PROXY; }
--- run
is(call(cert => 'client', token => 'bound', path => '/off')->{status}, 200, 'a certificate');
is(call(path => '/off')->{status}, 200, 'none');
is(join("\n", logged(2)), '-|-|-|-|-|' . thumbprint('client') . "|-\n-|-|-|-|-|-|-", 'the log');
--- no_error_log
[error]

=== TEST 5: requests that end before the access phase have no decision: a return, nginx's own 400
--- tls
location /return { return 204; }
--- run
is(call(cert => 'client', token => 'forged', path => '/return')->{status}, 204, 'a return is before');
is(call(cert => 'expired', token => 'for:expired')->{status}, 400, 'nginx refuses');
my @lines = logged(2);
is($lines[0], '-|-|-|-|-|' . thumbprint('client') . '|-', 'return');
like($lines[1], qr/^-\|-\|-\|-\|-\|/, 'of nginx');
--- no_error_log
[error]

=== TEST 6: for the upstream by proxy_set_header, and what the client sends under these names does not get there
--- tls
underscores_in_headers on;
location / {
    proxy_set_header X-User $keybound_subject;
    proxy_set_header X-Client $keybound_client_id;
    proxy_set_header X-Scope $keybound_scope;
    proxy_set_header X-Decision $keybound_decision;
    proxy_set_header X-Reason $keybound_reason;
    proxy_set_header X-Thumbprint $keybound_thumbprint;
    proxy_set_header X-Email $keybound_claim_email;
    $PROXY;
}
--- run
my @spoofed = map { "$_: spoofed" } qw(X-User X-Client X-Scope X-Decision X-Reason X-Thumbprint X-Email x-user);
for my $h2 (0, 1) {
    my $seen = echoed(call(cert => 'client', token => 'bound', headers => \@spoofed, h2 => $h2));
    is(json({ map { $_ => $seen->{$_} } grep { /^x-/ } keys %$seen }), json({ 'x-user' => 'user-1', 'x-client' => 'client-1', 'x-scope' => 'read', 'x-decision' => 'allow',
        'x-reason' => 'allowed', 'x-thumbprint' => thumbprint('client') }), 'the variables, and nothing of the client');
}
is(echoed(call(cert => 'client', token => 'bound', headers => ['Keybound-Subject: spoofed', 'Keybound_Subject: spoofed', 'X-Other: stays']))->{'x-other'}, 'stays', 'others stay');
--- no_error_log
[error]

=== TEST 7: arguments and cookies of these names are not the variables
--- run
call(cert => 'thief', token => 'bound', path => '/?keybound_subject=root&keybound_decision=allow&keybound_claim_email=x', headers => ['Cookie: keybound_subject=root']);
is(join('', logged(1)), 'deny|certificate_mismatch|-|-|-|' . thumbprint('thief') . '|-', 'the log');
--- no_error_log
[error]

=== TEST 8: claims of every type, as a header would have them
--- http_config
log_format claims '$keybound_claim_text|$keybound_claim_number|$keybound_claim_ratio|$keybound_claim_yes|$keybound_claim_no|$keybound_claim_null|$keybound_claim_list|$keybound_claim_object|$keybound_claim_empty|$keybound_claim_cnf';
--- tls
access_log $RUN/kb.log claims;
--- tokens eval
+{ rich => { for => 'client', claims => { text => 'a b', number => 7, ratio => 0.5, yes => JSON::PP::true, no => JSON::PP::false, null => undef, list => ['a', 1], object => { a => 1 }, empty => '' } } }
--- run
passes({ cert => 'client', token => 'rich' }, 'passes');
# nginx's log writes a quotation mark as \x22.
is((grep { !/allow\|/ } logged(2))[0] =~ s/\\x22/"/gr, 'a b|7|0.5|true|false|-|["a",1]|{"a":1}|-|{"x5t#S256":"' . thumbprint('client') . '"}', 'the log');
--- no_error_log
[error]

=== TEST 9: a claim with control characters is none: no header can be made of it, nor a second line of a log
--- tls
location / { proxy_set_header X-Claim $keybound_claim_evil; proxy_set_header X-User $keybound_subject; $PROXY; }
--- tokens eval
+{ (map { $_->[0] => { for => 'client', claims => { evil => $_->[1] } } } ['crlf', "x\r\nX-Email: root"], ['lf', "x\nX-Email: root"], ['cr', "x\rX-Email: root"], ['del', "a\x7f"], ['good', 'x X-Email: root']),
   subject => { for => 'client', claims => { sub => "root\r\nX-Email: root" } } }
--- run
for my $name (qw(crlf lf cr del)) {
    my $seen = echoed(call(cert => 'client', token => $name));
    is(join('|', map { $seen->{$_} // '-' } qw(x-claim x-email x-user)), '-|-|user-1', $name);
}
my $seen = echoed(call(cert => 'client', token => 'good'));
is(join('|', map { $seen->{$_} // '-' } qw(x-claim x-email x-user)), 'x X-Email: root|-|user-1', 'its twin');
$seen = echoed(call(cert => 'client', token => 'subject'));
is(join('|', map { $seen->{$_} // '-' } qw(x-claim x-email x-user)), '-|-|-', 'a subject of that kind');
is(scalar(grep { /root/ && /\|allowed\|/ } logged(6)), 0, 'no log has it');
--- no_error_log
[error]

=== TEST 10: the name of a claim is what is behind the prefix, letter by letter
--- http_config
log_format claims '$keybound_claim_given_name|$keybound_claim_sub|$keybound_claim_iss|$keybound_claim_exp_time|$keybound_claim_nothing';
--- tls
access_log $RUN/kb.log claims;
--- tokens eval
+{ rich => { for => 'client', claims => { given_name => 'Ann', 'given-name' => 'no', given_nam => 'no', exp_time => 12 } } }
--- run
passes({ cert => 'client', token => 'rich' }, 'passes');
is((grep { !/^allow/ } logged(2))[0], 'Ann|user-1|https://as.test|12|-', 'the log');
--- no_error_log
[error]

=== TEST 11: in a map, and from it in a header of the answer
--- http_config
map $keybound_claim_plan $rate { default slow; gold fast; }
map $keybound_decision $passed { default no; allow yes; }
--- tls
add_header X-Rate $rate always;
add_header X-Passed $passed always;
--- tokens eval
+{ gold => { for => 'client', claims => { plan => 'gold' } } }
--- run
for ([{ cert => 'client', token => 'gold' }, 'fast yes'], [{ cert => 'client', token => 'bound' }, 'slow yes'], [{ cert => 'thief', token => 'gold' }, 'slow no'], [{}, 'slow no']) {
    my ($call, $expected) = @$_;
    my $response = call(%$call);
    is(join(' ', header($response, 'X-Rate'), header($response, 'X-Passed')), $expected, json($call));
}
--- no_error_log
[error]

=== TEST 12: a variable that was read before the decision is not what it is after it
--- tls
if ($keybound_decision = allow) { return 403; }
set $before "$keybound_decision.$keybound_subject";
add_header X-Before "[$before]" always;
add_header X-After "[$keybound_decision.$keybound_subject]" always;
--- run
my $response = call(cert => 'client', token => 'bound');
is(join(' ', $response->{status}, header($response, 'X-Before'), header($response, 'X-After')), '200 [.] [allow.user-1]', 'allowed');
$response = call(cert => 'thief', token => 'bound');
is(join(' ', $response->{status}, header($response, 'X-Before'), header($response, 'X-After')), '401 [.] [deny.]', 'refused');
--- no_error_log
[error]

=== TEST 13: the thumbprint is that of the whole certificate, over each TLS and on a connection that is kept
--- tls
add_header X-Thumbprint $keybound_thumbprint always;
location /off { keybound off; $PROXY; }
--- run
for my $cert (qw(client thief rsa ed25519 self-signed)) {
    for my $tls ('1.2', '1.3') {
        is(scalar header(call(cert => $cert, tls => $tls, path => $_), 'X-Thumbprint'), thumbprint($cert), "$cert, TLS $tls, $_") for '/', '/off';
    }
}
my @responses = calls_on_one_connection(map { { cert => 'client', token => $_ } } 'bound', 'unbound', 'bound');
is(join(' ', map { scalar header($_, 'X-Thumbprint') } @responses), join(' ', (thumbprint('client')) x 3), 'on one connection');
is(scalar header(call(), 'X-Thumbprint'), '', 'none without a certificate');
is(scalar header(call(plain => 1), 'X-Thumbprint'), '', 'nor without TLS');
--- config
add_header X-Thumbprint $keybound_thumbprint always;
location / { $PROXY; }
--- no_error_log
[error]

=== TEST 14: the claims of one request are not those of the next on its connection
--- tls
location / { proxy_set_header X-User $keybound_subject; proxy_set_header X-Email $keybound_claim_email; $PROXY; }
location /off { keybound off; proxy_set_header X-User $keybound_subject; proxy_set_header X-Email $keybound_claim_email; $PROXY; }
--- tokens eval
+{ one => { for => 'client', claims => { sub => 'one', email => 'one@x' } }, two => { for => 'client', claims => { sub => 'two' } } }
--- run
for my $h2 (0, 1) {
    my @responses = calls_on_one_connection(map { { cert => 'client', h2 => $h2, %$_ } } { token => 'one' }, { token => 'two' }, { token => 'one', path => '/off' }, { token => 'one' });
    is(join(' ', map { my $seen = echoed($_); join '/', map { $seen->{$_} // '-' } qw(x-user x-email) } @responses), 'one/one@x two/- -/- one/one@x', 'each its own');
}
--- no_error_log
[error]

=== TEST 15: outside of a request for keys there is nothing to fetch
--- http_config
log_format fetch '[$keybound_fetch_url$keybound_fetch_host$keybound_fetch_uri]';
--- tls
access_log $RUN/kb.log fetch;
--- run
passes({ cert => 'client', token => 'bound' }, 'passes');
is((grep { !/^allow/ } logged(2))[0], '[---]', 'the log');
--- no_error_log
[error]
