# What logins and sessions need of the Kong plugin: answers with headers, cookies beside those of others, notes, forms, the store. By a library
# that says what its query asks for: t/lib/fake_http.c. Its configuration is what the schema lets through.
use Kong;
use Test::Nginx::Socket 'no_plan';

our ($true, $false) = (JSON::PP::true, JSON::PP::false);
our @COOKIES = map { "$$_[0]=secret-$$_[1]; Path=/" } ['one', 1], ['two', 2], ['three', 3];
sub cookies { return join ' | ', sort map { header($_, 'Set-Cookie') } @_ }
sub sorted { return join ' | ', sort @_ }
sub probe { return { name => 'probe', config => { @_ } } }
our $EARLIER = probe(rewrite => 'kong.response.add_header("Set-Cookie", "earlier=1")');

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(fake_library => read_file("$ROOT/t/lib/fake_http.c"));
    $block->set_value(upstream => <<'EOC');
location / {
    client_body_buffer_size 64k;
    content_by_lua_block {
        ngx.header["Set-Cookie"] = { "upstream=1", "upstream=2" }
        ngx.header["X-Other"] = "of the upstream"
        ngx.req.read_body()
        ngx.print(ngx.req.raw_header(), "body: ", ngx.req.get_body_data() or "none")
    }
}
location /broken { return 444; }
EOC
});

run_tests();

__DATA__

=== TEST 1: an answer is no refusal: its status, headers and body, and cookies beside those that there are
--- kong eval
+{ plugins => [$main::EARLIER], main::routes(api => [main::keybound()], guest => [main::keybound(anonymous => 'guest')]), consumers => [{ username => 'guest' }] }
--- run
for my $h2 (0, 1) {
    for my $path ('/api/?302', '/guest/?302') {
        for my $method ('GET', 'HEAD', 'POST') {
            log_mark();
            my $response = call(path => $path, h2 => $h2, method => $method);
            my $name = "$path, h2=$h2, $method";
            is($response->{status}, 302, "$name: status");
            is(join('|', header($response, 'Location')), 'https://as.test/auth?a=b&c=%2F', "$name: where to go on, as it was given");
            is(cookies($response), sorted('earlier=1', @COOKIES), "$name: cookies");
            is(join('|', header($response, 'X-Other'), header($response, 'Cache-Control'), header($response, 'Content-Type')), 'of the engine|no-store|text/plain', "$name: other headers");
            my $body = "method: $method\nhost: api.test\ntarget: $path\n";
            is($response->{body}, $method eq 'HEAD' ? '' : $body, "$name: body");
            is(header($response, 'Content-Length'), length $body, "$name: its length");
            like(log_since(), qr/\[notice\].*\[keybound\] answered, reason=login_started, status=302, token=-/, "$name: the log");
            unlike(log_since(), qr/refused|anonymous|secret|as\.test/, "$name: and no more");
        }
    }
}
serialized(6);
call(path => '/api/?302');
my ($entry) = serialized();
is(json($entry->{keybound}), '{"allowed":false,"reason":"login_started"}', 'for plugins that log');
log_mark();
is(call(path => '/guest/?200&detail')->{status}, 200, 'a page');
like(log_since(), qr/\[warn\].*\[keybound\] answered, reason=logged_out, status=200, token=-, detail=something was not checked/, 'in the log');
log_mark();
my $response = call(path => '/api/?400');
is("$response->{status} " . cookies($response), '400 ' . sorted('earlier=1', @COOKIES), 'a refusal with cookies');
like(log_since(), qr/\[warn\].*\[keybound\] refused, reason=login_state_missing, status=400, /, 'in the log');
--- no_error_log
[error]

=== TEST 2: who is anonymous keeps no cookie that was refused, and gets no other header of the refusal
--- kong eval
+{ main::routes(guest => [main::keybound(anonymous => 'guest')], strict => [main::keybound()]), consumers => [{ username => 'guest' }] }
--- run
my $response = call(path => '/guest/?401');
is($response->{status}, 200, 'passes');
is(cookies($response), sorted(@COOKIES, 'upstream=1', 'upstream=2'), 'cookies');
is(header($response, 'X-Other') . join('', header($response, 'Location')), 'of the upstream', 'no other headers');
$response = call(path => '/strict/?401');
is("$response->{status} " . header($response, 'X-Other'), '401 of the engine', 'the twin that is refused');
is(cookies($response), sorted(@COOKIES), 'cookies');
--- no_error_log
[error]

=== TEST 3: an allowed request: cookies beside the upstream's, its own credentials for the upstream, a consumer, a note
--- kong eval
+{ plugins => [$main::EARLIER], main::routes(api => [main::keybound(consumer_claim => ['sub'])], none => [main::keybound(consumer_claim => ['name'])]), consumers => [{ username => 'user-1' }] }
--- run
for my $h2 (0, 1) {
    my %call = (path => '/api/?allow', h2 => $h2, headers => ['Authorization: Bearer of-the-client', 'Cookie: a=1', 'Cookie: b=2']);
    log_mark();
    my $response = call(%call);
    is($response->{status}, 200, "h2=$h2: status");
    is(cookies($response), sorted('earlier=1', @COOKIES, 'upstream=1', 'upstream=2'), "h2=$h2: cookies");
    is(header($response, 'X-Other'), 'of the engine', "h2=$h2: other headers");
    is(upstream_saw($response, 'authorization|cookie|x-consumer-username'), 'authorization: Bearer of-the-session|x-consumer-username: user-1', "h2=$h2: the upstream");
    unlike(log_since(), qr/\[keybound\]/, "h2=$h2: nothing is logged");
    is(upstream_saw(call(%call, path => '/api/?allow&remove'), 'authorization|cookie'), '', "h2=$h2: without a token");
    is(cookies(call(%call, path => '/api/?allow&plain')), 'earlier=1 | upstream=1 | upstream=2', "h2=$h2: without cookies");
    log_mark();
    call(%call, path => '/api/?allow&detail');
    like(log_since(), qr/\[notice\].*\[keybound\] note, detail=something was not checked/, "h2=$h2: a note");
    unlike(log_since(), qr/secret|of-the-/, "h2=$h2: and no more");
    is(cookies(call(%call, path => '/none/?allow')), sorted('earlier=1', @COOKIES), "h2=$h2: what was rotated is not lost where there is no consumer");
}
--- error_log
reason=login_state_missing

=== TEST 4: they are sent where the upstream fails, too
--- kong eval
+{ plugins => [main::keybound()] }
--- run
my $response = call(path => '/broken?allow');
is("$response->{status} " . cookies($response), '502 ' . sorted(@COOKIES), 'cookies');
--- error_log
upstream prematurely closed connection

=== TEST 5: a form is read, and the upstream and later plugins get it all the same
--- kong eval
+{ main::routes(form => [main::keybound(realm => 'form'), main::probe(access => 'kong.service.request.set_header("X-Body", (kong.request.get_raw_body()))')], none => [main::keybound()]) }
--- run
for my $h2 (0, 1) {
    my %call = (method => 'POST', h2 => $h2, data => 'username=alice', headers => ['Content-Type: application/x-www-form-urlencoded']);
    like(call(%call, path => '/form/?400')->{body}, qr/^form: username=alice$/m, "h2=$h2: read");
    my $body = call(%call, path => '/form/?allow')->{body};
    like($body, qr/^X-Body: username=alice\r$/mi, "h2=$h2: a later plugin");
    like($body, qr/\r\nbody: username=alice$/, "h2=$h2: the upstream");
    unlike(call(%call, path => '/none/?400')->{body}, qr/form/, "h2=$h2: the twin that needs none");
}
--- no_error_log
[error]

=== TEST 6: what needs the store is not accepted without one
--- kong eval
+{}
--- run
sub said { my ($errors) = kong_errors({ plugins => [keybound(session_storage => 'store', @_)] }); return $errors ? json($errors->{plugins}[0]) : 'accepted' }
is(said(), '{"config":{"shared_dict":"required for logins, sessions and proofs, or redis: what all workers must know is kept there"}}', 'without');
is(said(shared_dict => 'keybound'), 'accepted', 'with a dictionary');
is(said(redis => { host => 'redis.test' }, store_secret => 'x' x 32), 'accepted', 'with a Redis');
--- no_error_log
[error]
