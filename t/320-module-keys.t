# Keys that the nginx module fetches through a location of nginx: from a real authorization server, by which requests, how often, and what
# happens while they cannot be had.
use Module;
use Test::Nginx::Socket 'no_plan';

worker_connections(1024);

# Where nobody listens, and where the server is that begins later.
our ($closed) = Keybound::_free_ports(1);

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => _ports($block->engine // 'kb: keys'));
    $block->set_value(http_config => _ports($block->http_config)) if $block->http_config;
});

sub _ports {
    my ($text) = @_;
    return $text =~ s/CLOSED/$closed/gr =~ s/AS_(WRONG_NAME|EXPIRED)/as_start('as-' . lc($1) =~ tr{_}{-}r)->{issuer}/ger =~ s/AS_PORT/as_start()->{port}/ger;
}

sub forget { as_control('/log/clear', {}, @_) }

# What the peer's documents are for an issuer below it.
sub documents {
    my ($path, %more) = @_;
    my $issuer = 'https://localhost:' . peer_start()->{port} . $path;
    return ("$path/.well-known/openid-configuration" => { json => { issuer => $issuer, jwks_uri => "$issuer/jwks", %more } }, "$path/jwks" => { json => Keybound::jwks() });
}
sub of_peer { my ($path, %how) = @_; return { for => 'client', claims => { iss => 'https://localhost:' . peer_start()->{port} . $path }, %how } }

run_tests();

__DATA__

=== TEST 1: metadata and keys are fetched for the first token, once; and not for what is no token
--- engine
kb: keys
direct: keys { "jwks_uri": "$AS/jwks" }
--- run
named_token('as:client');
forget();
refuses({}, '401 - no_token', 'no token');
refuses({ cert => 'client', authorization => 'Bearer junk' }, '401 invalid_token token_not_jwt', 'no JWT');
is(fetched(), '0 0', 'nothing is asked for that');
passes({ cert => 'client', token => 'as:client' }, 'own certificate');
is(fetched(), '1 1', 'for the first token');
refuses({ cert => 'thief', token => 'as:client' }, '401 invalid_token certificate_mismatch', 'another one');
refuses({ token => 'as:client' }, '401 invalid_token certificate_missing', 'none');
is(fetched(), '1 1', 'once');
passes({ cert => 'client', token => 'as:client', path => '/direct' }, 'own certificate, jwks_uri');
is(fetched(), '1 2', 'no metadata is asked for');
--- no_error_log
[error]
[alert]

=== TEST 2: what is sent: GET, by HTTP/1.1, of keybound alone; nothing of the client's request
--- run
named_token('as:client');
forget();
passes({ cert => 'client', token => 'as:client', path => '/secret/path?secret=1', method => 'POST', data => 'secret=1', headers => ['Cookie: secret=1', 'X-Secret: 1', 'X-Forwarded-For: secret',
    'Accept: text/secret', 'User-Agent: secret', 'Content-Type: text/secret'] }, 'a request with much in it');
my @documents = @{ as_log() };
is(scalar @documents, 2, 'two requests');
for my $seen (@documents) {
    is(join(' ', $seen->{method}, json($seen->{query_parameters}), $seen->{certificate} ? 'certificate' : '-', $seen->{headers}{authorization} // '-', $seen->{headers}{'content-type'} // '-'),
        'GET [] - - -', "$seen->{path}: how");
    is($seen->{headers}{host}, as_start()->{issuer} =~ s{https://}{}r, "$seen->{path}: Host");
    unlike(json($seen), qr/secret/, "$seen->{path}: nothing of the client");
}
--- no_error_log
[error]
[alert]

=== TEST 3: the headers that are sent, to the letter
--- engine
kb: keys { "issuer": "$PEER/one" }
--- run
peer_control('/log/clear');
peer_script({ documents('/one') });
define(one => of_peer('/one'));
passes({ cert => 'client', token => 'one', headers => ['Cookie: secret=1', 'X-Secret: 1', 'Accept-Encoding: gzip', 'Range: bytes=0-1', 'If-None-Match: x', 'TE: trailers'] }, 'passes');
my @all = map { @{ $_->{requests} } } @{ peer_log()->{log} };
is(scalar @all, 2, 'two requests');
for (@all) {
    is(join(' ', sort keys %{ $_->{headers} }), 'accept host', "$_->{path}: headers") or diag(json($_->{headers}));
    is($_->{headers}{host}, 'localhost:' . peer_start()->{port}, "$_->{path}: Host");
    is($_->{body_length}, 0, "$_->{path}: no body");
}
--- no_error_log
[error]
[alert]

=== TEST 4: every algorithm of the server
--- tokens eval
+{ map { ($_ => { as => 'any', cert => 'client', resource => $_ }) } qw(rs256 ps256 es256 eddsa) }
--- calls
client rs256 -> 200
client ps256 -> 200
client es256 -> 200
client eddsa -> 200
thief rs256 -> 401 invalid_token certificate_mismatch
thief eddsa -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 5: single flight: many requests at once, before there are keys: one fetch; all pass or are refused each by its own
--- run
named_token('as:client');
forget();
as_control('/hang', { ms => 400, path => '/jwks' });
my @started = map { my $cert = $_; Keybound::_many(60, { cert => $cert, token => 'as:client', h2 => 1 }, '--parallel', '--parallel-max', 60) } qw(client thief client thief);
my @seen = landed(@started);
as_control('/hang', { ms => 0 });
is(json(\@seen), '[{"200":60},{"401":60},{"200":60},{"401":60}]', 'each by its certificate');
is(fetched(), '1 1', 'one of each');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 6: a rotated key within one request; the removed one no more after keys_max_age
--- engine
kb: keys { "keys_max_age": 2, "rediscovery_lifetime": 1 }
--- run
define(old => { as => 'any', cert => 'client' });
passes({ cert => 'client', token => 'old' }, 'the old key');
my $rotated = as_control('/rotate', { alg => 'RS256' });
define(new => { as => 'any', cert => 'client', resource => 'rs256' });
passes({ cert => 'client', token => 'new' }, 'the new key, at once');
refuses({ cert => 'thief', token => 'new' }, '401 invalid_token certificate_mismatch', 'of a thief');
as_control('/drop', { kid => $rotated->{old_kid} });
define(dropped => { for => 'client', header => { kid => $rotated->{old_kid} }, claims => { iss => as_start()->{issuer} } });
pause(3.1);
call(cert => 'client', token => 'new');
pause(0.5);
refuses({ cert => 'client', token => 'dropped' }, '401 invalid_token key_unknown', 'the removed key');
passes({ cert => 'client', token => 'new' }, 'the new key');
--- no_error_log
[error]
[alert]

=== TEST 7: a token of a key that is not there: the keys are fetched once in rediscovery_lifetime, and it is refused
--- run
passes({ cert => 'client', token => 'as:client' }, 'before');
define(map { ("ghost$_" => { for => 'client', header => { kid => "ghost$_" }, claims => { iss => as_start()->{issuer} } }) } 1 .. 5);
forget();
refuses({ cert => 'client', token => "ghost$_" }, '401 invalid_token key_unknown', "a ghost: $_") for 1 .. 5;
like(fetched(), qr/^0 [01]$/, 'fetched once at most: ' . fetched());
passes({ cert => 'client', token => 'as:client' }, 'after');
--- no_error_log
[error]
[alert]

=== TEST 8: the server is down: 503 with Retry-After, and one line that says so; a token of another issuer is not touched
--- engine
kb: keys { "issuer": "https://localhost:CLOSED" }
other:
--- run
define(gone => { for => 'client', claims => { iss => "https://localhost:$main::closed" } });
for my $h2 (0, 1) {
    log_mark();
    my $response = call(cert => 'client', token => 'gone', h2 => $h2);
    check($response, '503 - keys_unavailable', 'nobody listens');
    like(scalar header($response, 'Retry-After'), qr/^[1-9]\d*$/, 'Retry-After');
}
like(whole_log(), qr/keybound: refused, reason=keys_unavailable, .*detail=https:\/\/localhost:$main::closed\/\S+: no connection/, 'the log says why');
passes({ cert => 'client', token => 'bound', path => '/other' }, 'another engine');
--- no_error_log
[alert]

=== TEST 9: errors of the server: 500, no JSON, metadata of another issuer, metadata without keys, and none of them is a key
--- engine
status: keys { "issuer": "$PEER/status" }
junk: keys { "issuer": "$PEER/junk" }
liar: keys { "issuer": "$PEER/liar" }
none: keys { "issuer": "$PEER/none" }
empty: keys { "issuer": "$PEER/empty" }
redirect: keys { "issuer": "$PEER/redirect" }
good: keys { "issuer": "$PEER/good" }
kb:
--- run
my $peer = 'https://localhost:' . peer_start()->{port};
my %good = documents('/good');
peer_script({ '/status' => { status => 500, body => json({ issuer => "$peer/status", jwks_uri => "$peer/good/jwks" }) }, '/junk' => { body => '<html>', headers => { 'Content-Type' => 'application/json' } },
    documents('/liar', issuer => "$peer/good"), '/none/.well-known' => { json => { issuer => "$peer/none" } }, documents('/empty'), '/empty/jwks' => { json => { keys => [] } },
    '/redirect' => { status => 302, headers => { Location => "$peer/good/.well-known/openid-configuration" } }, %good });
define(map { ($_ => of_peer("/$_")) } qw(status junk liar none empty redirect good));
for my $name (qw(status junk liar none redirect)) {
    refuses({ cert => 'client', token => $name, path => "/$name" }, '503 - keys_unavailable', $name);
}
log_mark();
my $response = call(cert => 'client', token => 'empty', path => '/empty');
like(join(' ', $response->{status}, reasons()), qr/^(?:401 401 key_unknown|503 503 keys_unavailable)$/, 'no keys');
passes({ cert => 'client', token => 'good', path => '/good' }, 'its twin');
--- no_error_log
[alert]

=== TEST 10: an answer that comes in chunks, byte by byte, or without a length
--- engine
chunked: keys { "issuer": "$PEER/chunked" }
drip: keys { "issuer": "$PEER/drip", "timeout": 20000, "read_timeout": 20000 }
close: keys { "issuer": "$PEER/close" }
cut: keys { "issuer": "$PEER/cut" }
kb:
--- run
my $keys = json(Keybound::jwks());
my %all = map { documents("/$_") } qw(chunked drip close cut);
$all{'/chunked/jwks'}{chunked} = JSON::PP::true;
$all{'/drip/jwks'}{drip} = 1;
$all{'/close/jwks'} = [{ send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n$keys" }, { close => JSON::PP::true }];
$all{'/cut/jwks'} = [{ send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " . (length($keys) + 10) . "\r\n\r\n$keys" }, { close => 'abrupt' }];
peer_script(\%all);
define(map { ($_ => of_peer("/$_")) } qw(chunked drip close cut));
passes({ cert => 'client', token => $_, path => "/$_" }, $_) for qw(chunked drip close);
refuses({ cert => 'thief', token => $_, path => "/$_" }, '401 invalid_token certificate_mismatch', "$_, of a thief") for qw(chunked drip close);
refuses({ cert => 'client', token => 'cut', path => '/cut' }, '503 - keys_unavailable', 'one that was cut');
--- timeout: 30
--- no_error_log
[alert]

=== TEST 11: an answer that is larger than the buffer of the location, or than keybound takes: refused, and the next one works
--- engine
pad: keys { "issuer": "$PEER/pad" }
huge: keys { "issuer": "$PEER/huge", "timeout": 20000 }
good: keys { "issuer": "$PEER/good" }
kb:
--- run
my %all = map { documents("/$_") } qw(pad huge good);
$all{'/pad/jwks'}{pad} = 1;
$all{'/huge/jwks'} = { body => 'x', headers => { 'Content-Type' => 'application/json' }, pad => 40 };
peer_script(\%all);
define(map { ($_ => of_peer("/$_")) } qw(pad huge good));
refuses({ cert => 'client', token => $_, path => "/$_" }, '503 - keys_unavailable', $_) for qw(pad huge);
passes({ cert => 'client', token => 'good', path => '/good' }, 'its twin');
--- timeout: 40
--- no_error_log
[alert]

=== TEST 12: the timeout holds for the whole request: silence, a slow drip, an answer that hangs in the middle
--- engine
silent: keys { "issuer": "$PEER/silent", "timeout": 700 }
drip: keys { "issuer": "$PEER/drip", "timeout": 700 }
half: keys { "issuer": "$PEER/half", "timeout": 700 }
good: keys { "issuer": "$PEER/good", "timeout": 5000 }
kb:
--- run
my %all = map { documents("/$_") } qw(silent drip half good);
$all{'/silent/jwks'} = { hang => JSON::PP::true };
$all{'/drip/jwks'}{drip} = 20;
$all{'/half/jwks'} = [{ send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{" }, { hang => JSON::PP::true }];
$all{'/good/jwks'} = [{ wait => 900 }, { json => Keybound::jwks() }];
peer_script(\%all);
define(map { ($_ => of_peer("/$_")) } qw(silent drip half good));
for my $name (qw(silent drip half)) {
    my $from = Time::HiRes::time();
    refuses({ cert => 'client', token => $name, path => "/$name" }, '503 - keys_unavailable', $name);
    my $took = Time::HiRes::time() - $from;
    ok($took > 0.6 && $took < 2.2, sprintf '%s: after its timeout: %.2f s', $name, $took);
}
is(scalar(() = whole_log() =~ /detail=\S+: no answer in time/g), 3, 'the log says so');
passes({ cert => 'client', token => 'good', path => '/good' }, 'its twin has more time');
--- timeout: 30
--- no_error_log
[alert]

=== TEST 13: a server that is not the one that is meant is sent nothing: another CA, another name, an expired certificate
--- engine
kb: keys
other: keys { "issuer": "$AS2" }
name: keys { "issuer": "AS_WRONG_NAME" }
expired: keys { "issuer": "AS_EXPIRED" }
trusted: keys { "issuer": "$AS2" }
--- tls
location /trusted { keybound_config $KB/trusted.json; keybound_fetch /_roots; $PROXY; }
location = /_roots { $FETCH_OF_BOTH }
--- run
my %server = (other => 'as2', name => 'as-wrong-name', expired => 'as-expired');
forget($_) for sort values %server;
define(map { ($_ => { for => 'client', claims => { iss => as_start($server{$_})->{issuer} } }) } keys %server);
define(trusted => { as => 'any', cert => 'client', server => 'as2' });
named_token('trusted');
forget('as2');
for my $name (sort keys %server) {
    refuses({ cert => 'client', token => $name, path => "/$name" }, '503 - keys_unavailable', $name);
    is(scalar @{ as_log($server{$name}) }, 0, "$name: nothing came");
}
passes({ cert => 'client', token => 'trusted', path => '/trusted' }, 'the one CA, where it is trusted');
passes({ cert => 'client', token => 'as:client' }, 'and the other');
--- no_error_log
[alert]

=== TEST 14: $keybound_fetch_url with a resolver, as a whole URL
--- fetch
none
--- tls
resolver $DNS ipv6=off;
keybound_fetch /_url;
location = /_url {
    internal;
    proxy_pass $keybound_fetch_url;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $PKI/ca.crt;
    proxy_ssl_server_name on;
    proxy_set_header Host $keybound_fetch_host;
}
--- run
named_token('as:client');
forget();
passes({ cert => 'client', token => 'as:client' }, 'own certificate');
refuses({ cert => 'thief', token => 'as:client' }, '401 invalid_token certificate_mismatch', 'of a thief');
is(fetched(), '1 1', 'fetched');
--- no_error_log
[error]
[alert]

=== TEST 15: an upstream with keepalive: one connection for all that is fetched
--- engine
kb: keys { "keys_max_age": 1, "rediscovery_lifetime": 1 }
--- http_config
upstream as { server 127.0.0.1:AS_PORT; keepalive 4; }
--- fetch
none
--- tls
keybound_fetch /_kept;
location = /_kept {
    internal;
    proxy_pass https://as$keybound_fetch_uri;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $keybound_fetch_host;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $PKI/ca.crt;
    proxy_ssl_name localhost;
    proxy_ssl_server_name on;
    proxy_ssl_session_reuse off;
}
--- run
named_token('as:client');
forget();
for (1 .. 3) {
    passes({ cert => 'client', token => 'as:client' }, 'own certificate');
    pause(1.2);
}
call(cert => 'client', token => 'as:client');
my %connections = map { $_->{connection} => 1 } grep { $_->{path} =~ /jwks|well-known/ } @{ as_log() };
cmp_ok(scalar(asked('/jwks')), '>=', 3, 'fetched again and again');
is(scalar keys %connections, 1, 'over one connection');
--- no_error_log
[error]
[alert]

=== TEST 16: an aborted client: the fetch goes on for the others, and the worker lives
--- run
named_token('as:client');
forget();
as_control('/hang', { ms => 1500, path => '/jwks' });
# Three who go away while it is under way, the first of them the one that began it; and two who wait.
my @gone = map { Keybound::start_command('', Keybound::_curl_words(cert => 'client', token => 'as:client', h2 => $_), '--max-time', '0.4') } 0, 1, 0;
pause(0.2);
my @stay = map { Keybound::start_command('', Keybound::_curl_words(cert => $_, token => 'as:client'), '-i') } qw(client thief);
my @left = map { (Keybound::finish_command($_))[0] } @gone;
is("@left", '28 28 28', 'three timed out');
is(join(' ', map { Keybound::response((Keybound::finish_command($_))[1])->{status} // '-' } @stay), '200 401', 'the others are answered');
as_control('/hang', { ms => 0 });
is(fetched(), '1 1', 'by one fetch');
passes({ cert => 'client', token => 'as:client' }, 'afterwards');
--- no_error_log
[alert]
exited on signal

=== TEST 17: all clients are gone: what they began is ended well, remembered, and the next one has it
--- run
named_token('as:client');
forget();
as_control('/hang', { ms => 700, path => '/jwks' });
for my $h2 (0, 1) {
    my ($status) = command('', Keybound::_curl_words(cert => 'client', token => 'as:client', h2 => $h2), '--max-time', '0.3');
    is($status, 28, 'gone');
}
pause(1);
as_control('/hang', { ms => 0 });
passes({ cert => 'client', token => 'as:client' }, 'the next one');
is(fetched(), '1 1', 'nothing was fetched again');
--- no_error_log
[alert]
exited on signal

=== TEST 18: a request that waits is not there twice: one line of the access log, one answer, on a connection that is kept
--- http_config
log_format one '$status $request_uri $upstream_status';
--- tls
access_log $RUN/one.log one;
--- run
unlink "$RUN/one.log";
kill USR1 => master();
until_true(2, sub { -e "$RUN/one.log" });
named_token('as:client');
my @responses = calls_on_one_connection(map { { cert => 'client', token => $_, path => "/$_" } } 'as:client', 'as:client', 'junk', 'as:client');
is(join(' ', map { $_->{status} } @responses), '200 200 401 200', 'the answers');
is(join(' ', map { $_->{connected} } @responses), '1 0 0 0', 'one connection');
until_true(2, sub { 4 <= (() = read_file("$RUN/one.log") =~ /\n/g) });
is(read_file("$RUN/one.log"), "200 /as:client 200\n200 /as:client 200\n401 /junk -\n200 /as:client 200\n", 'the access log');
--- no_error_log
[error]
[alert]
