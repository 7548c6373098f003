# Each proof is good for one request (RFC 9449 §11.1), in the nginx module: over workers, reloads and internal redirects, with the zone full, and
# among nginx's other checks. Whoever lacks the key uses up nobody's proof.
use Module;
use Dpop;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

my $SECRET = 'the-secret-of-nonces-0123456789-0123456789';
mkdir "$RUN/www";
write_file("$RUN/www/$_->[0]", $_->[1]) for ['app.html', 'the application'], ['index.html', 'the index'];
write_file("$RUN/htpasswd", "user:{PLAIN}pass\n");
chmod 0755, $RUN, "$RUN/www";

# comes_of(CALL): status and the reasons that were logged
sub comes_of { log_mark(); my $response = call(@_); return join ' ', $response->{status} // '-', map { /(\w+)$/ } reasons() }

# once(NAME, %call): a proof passes, and not again
sub once {
    my ($name, %sent) = @_;
    log_mark();
    my $response = call(%sent);
    is(join(' ', $response->{status}, reasons()), '200', "$name: passes");
    is(comes_of(%sent), '401 proof_replayed', "$name: once");
    return $response;
}

# many(N, PATH): N requests, each with a proof of its own, over one connection: how often which status came
sub many {
    my ($n, $path, @more) = @_;
    my %count;
    my @calls = map { { sent('phone', 'mine', path => $path, @more) } } 1 .. $n;
    while (my @some = splice @calls, 0, 40) {
        $count{ $_->{status} // '-' }++ for calls_on_one_connection(@some);
    }
    return \%count;
}

add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = $block->engine // 'kb: { DPOP }';
    $engine =~ s/NONCE/"dpop_use_nonce": true, "dpop_nonce_secret": "$SECRET"/g;
    $engine =~ s/DPOP/"proof_of_possession_dpop": "strict", "public_origin": "https:\/\/api.test"/g;
    $block->set_value(engine => $engine);
    my $size = $block->zone // '1m';
    $block->set_value(http_config => ($size eq 'none' ? '' : "keybound_zone kb $size;\n") . "log_format pids '\$pid';\n" . ($block->http_config // ''));
    $block->set_value(tls => "access_log \$RUN/pids.log pids;\n" . ($block->tls // ''));
    $block->set_value(tokens => { mine => { claims => { cnf => { jkt => jkt('phone') } } }, other => { claims => { cnf => { jkt => jkt('laptop') } } }, %{ $block->tokens // {} } });
});

run_tests();

__DATA__

=== TEST 1: 9449-11.1-b: a proof is good for one request, also with another token of its key, over HTTP/2, for another query; a new one passes
--- tokens eval
+{ second => { claims => { cnf => { jkt => Dpop::jkt('phone') } } } }
--- run
for my $h2 (0, 1) {
    my %sent = sent('phone', 'mine', h2 => $h2);
    once("h2 $h2", %sent);
    is(comes_of(%sent, h2 => !$h2), '401 proof_replayed', 'by the other protocol');
    is(comes_of(%sent, path => '/?x=1'), '401 proof_replayed', 'with a query');
    once('its twin', sent('phone', 'mine', h2 => $h2));
}
my @same = (proof => { jti => 'the same' });
is(comes_of(sent('phone', 'mine', @same)), '200', 'a jti');
is(comes_of(sent('phone', 'second', @same)), '401 proof_replayed', 'again, in another proof of this key for another token');
is(comes_of(sent('phone', 'mine', path => '/other', @same)), '401 proof_replayed', 'for another URL');
is(comes_of(sent('laptop', 'other', @same)), '200', 'of another key it is another one');
--- no_error_log
[error]

=== TEST 2: 9449-11.1-b: many uses of one proof at once, over both workers: exactly one passes
--- run
write_file("$RUN/pids.log", '');
kill USR1 => master();
for (1 .. 3) {
    my $seen = flood(120, 8, sent('phone', 'mine'));
    is(json($seen), '{"200":1,"401":959}', 'of 960');
}
my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/pids.log");
cmp_ok(scalar keys %pids, '>=', 2, 'by both workers');
is(json(flood(10, 2, sent('phone', 'mine'))), '{"200":1,"401":19}', 'and of 20');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 3: 9449-11.1-b: it stays used over a reload, where a worker is killed, and in all of them
--- run
my @sent = map { { sent('phone', 'mine') } } 1 .. 20;
is(comes_of(%$_), '200', 'passes') for @sent;
ok(hup(), 'reloaded');
is(comes_of(%{ $sent[$_] }), '401 proof_replayed', 'after the reload') for 0 .. 9;
my @old = children();
kill KILL => @old;
ok(until_true(10, sub { my @now = children(); @now == 2 && !grep { my $pid = $_; grep { $_ == $pid } @old } @now }), 'two new workers');
is(comes_of(%{ $sent[$_] }), '401 proof_replayed', 'after their end') for 10 .. 19;
once('a new one', sent('phone', 'mine'));
--- timeout: 40
--- error_log
exited on signal 9
--- no_error_log
[error]

=== TEST 4: nobody uses up a proof whose key they lack: what fails in any other check is not remembered
--- run
for my $h2 (0, 1) {
    my %own = sent('phone', 'mine', h2 => $h2, proof => { jti => "of the owner $h2" });
    my ($proof) = map { /^DPoP: (.*)/ } @{ $own{headers} };
    is(comes_of(sent('laptop', 'mine', h2 => $h2, proof => { jti => "of the owner $h2" })), '401 proof_key_mismatch', 'by another key');
    is(comes_of(sent('laptop', 'other', h2 => $h2, proof => { jti => "of the owner $h2" })), '200', 'by another key, for its token');
    is(comes_of(sent('phone', 'mine', h2 => $h2, proof => { jti => "of the owner $h2", signed_by => 'laptop' })), '401 proof_signature_invalid', 'forged');
    is(comes_of(%own, authorization => 'DPoP ' . named_token('other')), '401 proof_token_mismatch', 'the proof itself, with another token');
    is(comes_of(%own, path => '/other'), '401 proof_uri_mismatch', 'the proof itself, elsewhere');
    is(comes_of(%own, method => 'POST', data => 'x'), '401 proof_method_mismatch', 'the proof itself, by another method');
    is(comes_of(%own, headers => [@{ $own{headers} }, 'DPoP: x']), '401 proof_repeated', 'the proof itself, and another one');
    is(comes_of(%own, path => '/?access_token=x'), '400 several_tokens', 'the proof itself, in a request that is wrong');
    once('the owner', %own);
}
--- no_error_log
[error]

=== TEST 5: internal redirects: of one request, the proof is used once, wherever it ends and by whatever method it goes on; and not by another request
--- engine
kb: { DPOP, "upstream_headers_claims": ["sub"], "upstream_headers_names": ["X-User"] }
write: { DPOP, "scopes_required": ["write"] }
--- tls
root $RUN/www;
location / { try_files $uri /app.html; }
location /dir/ { alias $RUN/www/; index index.html; }
location = /rewritten { rewrite ^ /upstream last; }
location /upstream { $PROXY; }
location /accel { proxy_pass http://$UPSTREAM:/accel; }
location /accel-named { proxy_pass http://$UPSTREAM:/accel-named; }
location /broken { proxy_pass http://127.0.0.1:9; error_page 502 = /upstream; }
location /thrice { proxy_pass http://127.0.0.1:9; error_page 502 = /broken; recursive_error_pages on; }
location /named { try_files /nothing @named; }
location @named { $PROXY; }
location @accel { rewrite ^ /upstream break; $PROXY; }
location /off { keybound off; proxy_pass http://$UPSTREAM:/accel; }
location /policy { proxy_pass http://127.0.0.1:9; error_page 502 = /write; }
location /write { keybound_config $KB/write.json; $PROXY; }
--- servers
server {
    listen $UPSTREAM;
    location / { return 200 "passed\nauthorization: $http_authorization\ndpop: $http_dpop\nx-user: $http_x_user\n"; }
    location = /accel { add_header X-Accel-Redirect /upstream; return 200; }
    location = /accel-named { add_header X-Accel-Redirect @accel; return 200; }
}
--- run
my $token = named_token('mine');
for my $h2 (0, 1) {
    for my $method (qw(GET POST PUT)) {
        my @paths = qw(/rewritten /accel /accel-named /broken /thrice /off);
        push @paths, qw(/some/page /dir/ /named) if $method eq 'GET';
        for my $path (@paths) {
            my $response = once("$method $path, h2 $h2", sent('phone', 'mine', path => $path, h2 => $h2, method => $method, $method eq 'GET' ? () : (data => 'a=b')));
            my $seen = echoed($response);
            is(join(' ', map { $seen->{$_} // '-' } qw(authorization dpop x-user)), "Bearer $token - user-1", "$path: the upstream") if $response->{body} =~ /^passed/;
        }
    }
    is(comes_of(sent('phone', 'mine', path => '/policy', h2 => $h2)), '403 insufficient_scope', 'the policy of where it ends');
}
# The context of one request is not another's, on one connection either.
my @sent = map { { sent('phone', 'mine', path => '/broken') } } 1 .. 2;
is(join(' ', map { $_->{status} } calls_on_one_connection(@sent[0, 0, 1, 0, 1])), '200 401 200 401 401', 'on one connection');
is(json(flood(60, 4, sent('phone', 'mine', path => '/broken'))), '{"200":1,"401":239}', 'at once');
--- timeout: 60

=== TEST 6: satisfy any, and auth_basic: a proof or a password; where neither passes, both are asked for. A refusal uses up nothing
--- tls
satisfy any;
location / { auth_basic "people"; auth_basic_user_file $RUN/htpasswd; $PROXY; }
location /deny { deny all; $PROXY; }
--- run
for my $h2 (0, 1) {
    once('a proof', sent('phone', 'mine', path => '/deny', h2 => $h2));
    is(call(authorization => 'Basic dXNlcjpwYXNz', h2 => $h2)->{status}, 200, 'a password');
    my $response = call(sent('laptop', 'mine', h2 => $h2));
    is($response->{status}, 401, 'neither');
    is(join(' | ', header($response, 'WWW-Authenticate')), 'DPoP error="invalid_token", algs="ES256 PS256 EdDSA" | Basic realm="people"', 'both challenges');
    once('and then a good one', sent('phone', 'mine', path => '/deny', h2 => $h2));
}

=== TEST 7: 9449-9-a: nonce and challenge are there where nginx answers: satisfy any, error_page, auth_delay, HEAD
--- engine
kb: { DPOP, NONCE }
--- tls
location /any { satisfy any; deny all; $PROXY; }
location /page { error_page 401 @login; $PROXY; }
location @login { keybound off; add_header X-Page login always; $PROXY; }
location /uri { error_page 401 /login-page; $PROXY; }
location = /login-page { keybound off; $PROXY; }
location /delay { auth_delay 300ms; $PROXY; }
--- run
for my $h2 (0, 1) {
    for my $path ('/', '/any', '/page', '/uri', '/delay') {
        for my $method ('GET', 'HEAD', 'POST') {
            my @call = (path => $path, h2 => $h2, method => $method);
            my $response = call(sent('phone', 'mine', @call));
            my ($nonce, @others) = header($response, 'DPoP-Nonce');
            is(join(' | ', $response->{status}, header($response, 'WWW-Authenticate'), scalar(@others)), '401 | DPoP error="use_dpop_nonce", algs="ES256 PS256 EdDSA" | 0', "$method $path");
            like(join(', ', header($response, 'Cache-Control')), qr/no-store/, "$method $path: nobody keeps it");
            is(call(sent('phone', 'mine', @call, proof => { nonce => $nonce }))->{status}, 200, "$method $path: with it");
        }
    }
}
--- timeout: 60

=== TEST 8: 9449-8-b: an ageing nonce is replaced on the response of wherever the request ends
--- engine
kb: { DPOP, NONCE, "dpop_proof_lifetime": 6 }
--- tls
root $RUN/www;
location / { try_files $uri /app.html; }
location /broken { proxy_pass http://127.0.0.1:9; error_page 502 = /upstream; }
location /gone { proxy_pass http://127.0.0.1:9; }
location /out { proxy_pass http://127.0.0.1:9; error_page 502 = /outside; }
location /upstream { $PROXY; }
location /outside { keybound off; $PROXY; }
--- run
my $nonce = header(call(sent('phone', 'mine')), 'DPoP-Nonce');
pause(3.6);
for my $path ('/', '/broken', '/gone', '/out') {
    my $response = call(sent('phone', 'mine', path => $path, proof => { nonce => $nonce }));
    my ($fresh, @others) = header($response, 'DPoP-Nonce');
    is(join(' ', $response->{status}, scalar(@others), header($response, 'Cache-Control')), ($path eq '/gone' ? 502 : 200) . ' 0 no-store', $path);
    is(comes_of(sent('phone', 'mine', proof => { nonce => $fresh })), '200', "$path: it is good");
}

=== TEST 9: a zone full of proofs: the next one is refused with 503, none that was used is forgotten before its time, and then there is room
--- zone: 40k
--- engine
kb: { DPOP, "dpop_proof_lifetime": 30, "dpop_proof_leeway": 0, "keys_max_age": 60 }
--- run
my @used = map { { sent('phone', 'mine') } } 1 .. 40;
my $begun = time;
is(comes_of(%$_), '200', 'passes') for @used;
my $seen = many(280, '/');
cmp_ok($seen->{200}, '>=', 50, 'some more pass: ' . json($seen));
is(join(' ', sort keys %$seen), '200 503', 'and then none');
like(whole_log(), qr/keybound: the shared store failed: keybound_zone "kb" is full: make it larger/, 'the log says so');
log_mark();
my $response = call(sent('phone', 'mine'));
is(join(' ', $response->{status}, reasons(), header($response, 'Retry-After')), '503 503 store_unavailable 5', 'refused');
is(comes_of(%$_), '401 proof_replayed', 'every one that was used is known') for @used;
cmp_ok(time - $begun, '<', 29, 'all of this before any of them ended') or diag('the machine is too slow for this test');
is(comes_of(token => 'mine'), '401 dpop_scheme_required', 'other refusals are as ever');
pause(32);
my $again = many(60, '/');
is(json($again), '{"200":60}', 'room again');
--- timeout: 90
--- no_error_log
[alert]
exited on signal

=== TEST 10: its twin with room: as many as one likes
--- zone: 64k
--- engine
kb: { DPOP }
--- run
is(json(many(240, '/')), '{"200":240}', 'all pass');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 11: what can be fetched anew gives way to proofs, and proofs to nothing
--- zone: 96k
--- engine
kb: peer { DPOP, "token_cache_entries": 0 }
file: { DPOP }
--- tls
location /file { keybound_config $KB/file.json; $PROXY; }
--- run
sub of_peer { return { active => JSON::PP::true, aud => 'https://api.test', exp => time + 600 | 0, cnf => { jkt => jkt('phone') }, pad => 'x' x 1500 } }
sub asked_peer { return scalar grep { $_->{path} eq '/introspect' } map { @{ $_->{requests} } } @{ peer_log()->{log} } }
peer_script({ '/introspect' => { json => of_peer() } });
peer_control('/log/clear');
my @names = map { "opaque_$_" } 1 .. 60;
define(map { $_ => { text => "opaque-$_-" . int rand 1e9 } } @names);
# More introspections than there is room for: they fill what the proofs leave, and give way to each other.
my %count;
for my $name (@names) {
    $count{ comes_of(sent('phone', $name)) }++;
}
is(json(\%count), '{"200":60}', 'each passes');
is(asked_peer(), 60, 'each was asked about');
# Proofs that need no introspection take their room.
my $seen = many(150, '/file');
is(json($seen), '{"200":150}', 'and proofs pass');
my @used = map { { sent('phone', 'mine', path => '/file') } } 1 .. 5;
is(comes_of(%$_), '200', 'passes') for @used;
# And give none of it up.
comes_of(sent('phone', $_)) for @names;
is(comes_of(%$_), '401 proof_replayed', 'is known') for @used;
--- timeout: 90
--- no_error_log
[alert]

=== TEST 12: sessions and proofs in one zone: neither takes the other's place before its time
--- zone: 128k
--- engine
kb: { DPOP }
web: web { "auth_methods": ["session", "password"], "redirect_uri": null, "session_storage": "store", "proof_of_possession_mtls": "off", "session_bind_certificate": null }
--- run
our $ALICE = 'Basic ' . MIME::Base64::encode_base64('alice:alice-password', '');
my @cookies = map { header(call(path => '/web', authorization => $ALICE), 'Set-Cookie') =~ /^(__Host-session=[^;]+)/ } 1 .. 4;
is(scalar @cookies, 4, 'four sessions');
my @used = map { { sent('phone', 'mine') } } 1 .. 5;
is(comes_of(%$_), '200', 'a proof') for @used;
my $seen = many(1000, '/');
is(join(' ', sort keys %$seen), '200 503', 'the zone is full: ' . json($seen));
is(comes_of(path => '/web', headers => ["Cookie: $_"]), '200', 'the session goes on') for @cookies;
is(comes_of(%$_), '401 proof_replayed', 'and the proof is known') for @used;
--- timeout: 90
--- no_error_log
[alert]

=== TEST 13: proofs whose time is over make room at once, also for what is larger, and not before
--- zone: 40k
--- engine
kb: { DPOP, "dpop_proof_lifetime": 30, "dpop_proof_leeway": 0 }
web: web { "auth_methods": ["session", "password"], "redirect_uri": null, "session_storage": "store", "proof_of_possession_mtls": "off", "session_bind_certificate": null }
--- run
our $ALICE = 'Basic ' . MIME::Base64::encode_base64('alice:alice-password', '');
my $begins = sub { return scalar grep { /^__Host-session=/ } header(call(path => '/web', authorization => $ALICE), 'Set-Cookie') };
is($begins->(), 1, 'a session begins');
my $seen = many(260, '/');
is(join(' ', sort keys %$seen), '200 503', 'the zone is full: ' . json($seen));
# A page of the other ones may have a place left.
my $n = 0;
$n++ while $n < 6 && $begins->();
cmp_ok($n, '<', 6, 'then none does');
pause(32);
is($begins->(), 1, 'one does when they have ended');
is(comes_of(sent('phone', 'mine')), '200', 'and a proof is taken');
--- timeout: 120
--- no_error_log
[alert]

=== TEST 14: insecure_dpop_replay: without a zone proofs pass again, and the log says what that means at load and at each request
--- zone: none
--- engine
kb: { DPOP, "insecure_dpop_replay": true }
--- run
my %sent = sent('phone', 'mine');
for (1, 2) {
    log_mark();
    is(call(%sent)->{status}, 200, 'passes');
    like(log_since(), qr/keybound: note, reason=allowed, .*detail=the proof is not remembered \(insecure_dpop_replay\)/, 'and is noted');
}
is(comes_of(sent('laptop', 'mine')), '401 proof_key_mismatch', 'all else is checked');
my ($status, $said) = configtest('', "keybound on; keybound_config \$KB/kb.json;");
like($said, qr/\[warn\].*insecure_dpop_replay/, 'at load');
--- no_error_log
[error]
[alert]

=== TEST 15: its twin with a zone: a proof that is remembered is refused all the same
--- zone: 1m
--- engine
kb: { DPOP, "insecure_dpop_replay": true }
--- run
once('a proof', sent('phone', 'mine'));
--- no_error_log
[error]
[alert]

=== TEST 16: two locations with one zone are one gateway: what was used at the one is at the other, whatever their engines; two zones are two
--- http_config
server { listen unix:$RUN/zone.sock; keybound_zone two 1m; }
--- engine
kb: { DPOP }
--- tls
server_name api.test;
location /scope { rewrite ^ /x break; keybound_scope read; $PROXY; }
location /two { keybound_zone two; $PROXY; }
--- run
my @same = (proof => { jti => 'one' });
is(comes_of(sent('phone', 'mine', @same)), '200', 'here');
is(comes_of(sent('phone', 'mine', path => '/scope', @same)), '401 proof_replayed', 'with another engine');
is(comes_of(sent('phone', 'mine', path => '/two', @same)), '200', 'with another zone');
is(comes_of(sent('phone', 'mine', path => '/two', @same)), '401 proof_replayed', 'which remembers it, too');
--- no_error_log
[error]

=== TEST 17: keybound report: what would be refused is reported, a replay, too, and nothing waits
--- tls
keybound report;
--- run
my %sent = sent('phone', 'mine');
for (['200', ''], ['200', 'proof_replayed'], ['200', 'proof_replayed']) {
    my ($status, $reason) = @$_;
    log_mark();
    is(call(%sent)->{status}, $status, 'passes');
    is(join(' ', log_since() =~ /reported, reason=(\w+)/g), $reason, 'reported');
}
--- no_error_log
[error]

=== TEST 18: subrequests of an allowed request are its own: they need no proof, and use none; auth_request sees the headers as the upstream will
--- tls
location / { auth_request /auth; mirror /mirror; $PROXY; }
location = /auth { internal; proxy_pass http://$PLAIN/auth; proxy_pass_request_body off; proxy_set_header Content-Length ""; }
location = /mirror { internal; proxy_pass http://$PLAIN/mirror; }
--- run
peer_script({ '*' => { body => 'fine' } }, 'plain');
my $count = sub { return scalar map { @{ $_->{requests} } } @{ peer_log('plain')->{log} } };
for my $h2 (0, 1) {
    my $before = $count->();
    my %sent = sent('phone', 'mine', h2 => $h2);
    is(comes_of(%sent), '200', 'passes');
    ok(until_true(3, sub { $count->() == $before + 2 }), 'both were asked');
    is(plain_saw('authorization|dpop'), 'authorization: Bearer ' . named_token('mine'), 'by Bearer, without the proof');
    is(comes_of(%sent), '401 proof_replayed', 'once');
    is($count->(), $before + 2, 'and nobody is asked then');
}
--- no_error_log
[error]
[alert]

=== TEST 19: a request that was let through goes on where it is redirected to, however long its upstream took; another one with its proof does not
--- engine
kb: { DPOP, "dpop_proof_lifetime": 2, "dpop_proof_leeway": 0 }
nonce: { DPOP, NONCE, "dpop_proof_lifetime": 2, "dpop_proof_leeway": 0 }
--- tls
location /accel { proxy_pass http://$PLAIN; }
location /late { proxy_pass http://$PLAIN; proxy_read_timeout 3100ms; error_page 504 =200 /page; }
location /page { $PROXY; }
location /nonce { keybound_config $KB/nonce.json; proxy_pass http://$PLAIN; proxy_read_timeout 3100ms; error_page 504 =200 /nonce-page; }
location /nonce-page { keybound_config $KB/nonce.json; $PROXY; }
--- run
peer_script({ '*' => { wait => 8000 }, '/accel' => { wait => 3100, headers => { 'X-Accel-Redirect' => '/page' } } }, 'plain');
for (['/accel', 'GET'], ['/accel', 'POST'], ['/late', 'POST'], ['/nonce', 'POST', 1]) {
    my ($path, $method, $nonce) = @$_;
    my $proof = $nonce ? { nonce => scalar header(call(sent('phone', 'mine', path => '/nonce-page')), 'DPoP-Nonce') } : {};
    my %one = sent('phone', 'mine', path => $path, method => $method, $method eq 'GET' ? () : (data => 'x'), proof => $proof);
    is(comes_of(%one), '200', "$method $path");
    is(comes_of(%one), '401 ' . ($nonce ? 'proof_nonce_invalid' : 'proof_expired'), "$method $path: again");
}
--- timeout: 60
--- no_error_log
[alert]

=== TEST 20: that a request was let through by a session makes no used proof a good one
--- engine
kb: { "public_origin": "https://api.test", "proof_of_possession_dpop": "optional", "proof_of_possession_mtls": "optional", "auth_methods": ["session", "bearer"], "session_secret": "the-secret-of-sessions-0123456789", "session_absolute_timeout": 3, "dpop_proof_lifetime": 2, "dpop_proof_leeway": 0 }
--- tokens eval
{ unbound => {} }
--- tls
location /slow { proxy_pass http://$PLAIN; proxy_read_timeout 3600ms; error_page 504 =200 /page; }
location /page { $PROXY; }
--- run
peer_script({ '*' => { wait => 9000 } }, 'plain');
my ($cookie) = header(call(path => '/page', token => 'unbound'), 'Set-Cookie') =~ /^(__Host-session=[^;]+)/;
my %one = sent('phone', 'mine', path => '/slow');
is(comes_of(%one, headers => [@{ $one{headers} }, "Cookie: $cookie"]), '401 proof_expired', 'with a session that ends before');
is(comes_of(sent('phone', 'mine', path => '/slow')), '200', 'its twin, by its proof');
--- timeout: 60
--- no_error_log
[alert]
