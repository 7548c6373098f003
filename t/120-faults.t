# Faults of the authorization server, each with what must never come of it: no answer is neither yes nor no. It is 503, and others do
# not notice. By number: security.md, section 4.4.
use Keybound;
use Faults;
use Test::Nginx::Socket 'no_plan';

our $GONE = '503 - introspection_unavailable';
our $OK = '200';

# An answer of this text, said to be JSON.
sub text {
    my ($body) = @_;
    return { base64 => Keybound::encode_base64("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " . length($body) . "\r\n\r\n$body", '') };
}

run_tests();

__DATA__

=== fault 1: the server is down and nothing is known: 503 with Retry-After, and one line in ten seconds
--- engine
kb = asking()
down = asking { introspection_endpoint = "https://localhost:$CLOSED/introspect" }
--- tls
location /down { access_by_lua_block { down:access() } content_by_lua_block { ngx.say("passed") } }
--- run
peer_script({ '/introspect' => active() });
my $token = opaque();
my $from = -s "$ENV{TEST_NGINX_SERVROOT}/logs/error.log";
ask($token, $GONE, "down, $_", path => '/down') for 1 .. 3;
ask(opaque(), $GONE, 'down, another token', path => '/down');
my $lines = () = substr(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log"), $from) =~ /request to the authorization server failed/g;
is($lines, 1, 'one line of the request that failed');
like(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log"), qr/endpoint=introspection, issuer=\S+, outcome=connect, detail=connection refused/, 'it says what');
ask($token, $OK, 'the same token where the server is up');
ask($token, '401 invalid_token certificate_mismatch', 'bound all the same', cert => 'thief');
--- no_error_log
[alert]
[crit]

=== fault 2: the server goes down: what it said holds for its time and not after `exp`
--- engine
kb = asking { introspection_cache_ttl = 2 }
--- run
my ($token, $short) = (opaque(), opaque());
my $exp = int(time) + 3;
peer_script({ '/introspect' => { turns => [active(), active(exp => $exp)] } });
my $at = int time;
ask($token, $OK, 'up');
ask($short, $OK, 'up, ends soon');
peer_script({ connect => { reset => \1 }, '*' => { reset => \1 } });
ask($token, $OK, 'down: what is known') if time < $at + 1.5;
ask($token, '401 invalid_token certificate_mismatch', 'down: for the client only', cert => 'thief') if time < $at + 1.5;
ask(opaque(), $GONE, 'down: another token');
until_second($at + 3);
ask($token, $GONE, 'down: after its time');
my $response = do { log_mark(); call(cert => 'client', authorization => "Bearer $short") };
isnt($response->{status}, 200, 'down: not after exp');
peer_script({ '/introspect' => active() });
ask($token, $OK, 'up again');
--- no_error_log
[alert]
[crit]

=== fault 2: and a token that the server gave an end ends then, within the time of the cache
--- run
my $token = opaque();
my $exp = int(time) + 2;
peer_script({ '/introspect' => { turns => [active(exp => $exp), { reset => \1 }] } });
ask($token, $OK, 'before');
until_second($exp);
ask($token, '503 - introspection_unavailable', 'after');
--- no_error_log
[alert]
[crit]

=== fault 3: the server takes connections and never answers: 503 in time, and others do not notice
--- run
my $known = opaque();
peer_script({ '/introspect' => { turns => [active(), { hang => \1 }] } });
ask($known, $OK, 'known');
my %call = (cert => 'client', authorization => "Bearer $known");
load(50, %call);
my $before = load(500, %call);
# Two seconds of twenty requests that the server leaves without an answer.
my $from = Time::HiRes::time();
my @hanging = map { my ($curl, @words) = Keybound::_curl_words(cert => 'client', authorization => 'Bearer ' . opaque());
    Keybound::start_command('', $curl, @words, '-o', '/dev/null', '-w', '%{http_code} %{time_starttransfer}') } 1 .. 20;
select undef, undef, undef, 0.3;
my $during = load(500, %call);
my $loaded = Time::HiRes::time() - $from;
my @ends = map { (Keybound::finish_command($_))[1] } @hanging;
show_load('before the hang', $before);
show_load('during the hang', $during);
diag(sprintf 'load ended %.2f s after the hang began', $loaded);
is($during->{failed}, 0, 'no request of others failed');
cmp_ok($during->{p99}, '<', 200, 'p99 of others, ms');
is(scalar(grep { /^503 / } @ends), 20, 'each of the others is 503') or diag("@ends");
my @took = sort { $a <=> $b } map { /^503 (\S+)/ } @ends;
diag("503 after $took[0] to $took[-1] s");
cmp_ok($took[0], '>=', 1.9, 'after the whole time');
cmp_ok($took[-1], '<', 4, 'and not much later');
--- timeout: 40
--- no_error_log
[alert]
[crit]

=== fault 3: no handshake, and no answer to a request that was sent, end after their own times
--- run
for (['no handshake', { connect => { hang => \1 } }, 0.5], ['no answer', { '/introspect' => { hang => \1 } }, 2],
    ['half a head', { '/introspect' => [{ send => "HTTP/1.1 200 OK\r\nContent-Le" }, { hang => \1 }] }, 2],
    ['half a body', { '/introspect' => [{ send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"active\":true" }, { hang => \1 }] }, 2]) {
    my ($what, $script, $seconds) = @$_;
    peer_script($script);
    my $token = opaque();
    my $from = Time::HiRes::time();
    ask($token, $GONE, $what);
    my $took = Time::HiRes::time() - $from;
    cmp_ok($took, '>=', $seconds - 0.1, "$what: its time");
    cmp_ok($took, '<', $seconds + 1.5, "$what: not much more");
    peer_script({ '/introspect' => active() });
    ask($token, $OK, "$what: then an answer");
}
--- timeout: 40
--- no_error_log
[alert]
[crit]

=== fault 4: one byte a second: the time is for the whole request
--- run
my $token = opaque();
peer_script({ '/introspect' => { %{ active() }, drip => 1000 } });
my $from = Time::HiRes::time();
ask($token, $GONE, 'one byte a second');
my $took = Time::HiRes::time() - $from;
cmp_ok($took, '>=', 1.9, 'the whole time');
cmp_ok($took, '<', 3.5, 'not much more');
# Each byte within the time between two reads, all of them beyond the whole.
peer_script({ '/introspect' => { %{ active() }, drip => 20 } });
ask($token, $GONE, 'fifty bytes a second');
peer_script({ '/introspect' => { %{ active() }, drip => 1 } });
ask($token, $OK, 'a thousand bytes a second') if length(json(active()->{json})) < 800;
--- timeout: 40
--- no_error_log
[alert]
[crit]

=== fault 5: 500, 502 and the like are no answer, and are not remembered
--- run
my $token = opaque();
for my $status (500, 502, 503, 504, 404, 403, 204, 304) {
    peer_script({ '/introspect' => { status => $status, json => active()->{json}, $status =~ /04$/ && $status != 404 && $status != 504 ? (json => undef, body => '') : () } });
    ask($token, $GONE, "status $status");
}
peer_script({ '/introspect' => active() });
ask($token, $OK, 'the same token at once');
--- no_error_log
[alert]
[crit]

=== fault 5: 401 is about the gateway, and not about the token
--- run
my $token = opaque();
peer_script({ '/introspect' => { turns => [{ status => 401, json => { error => 'invalid_client' } }, { status => 400, json => { error => 'invalid_client' } }, active()] } });
ask($token, '503 - client_refused', "the gateway is refused, $_") for 1, 2;
ask($token, $OK, 'the same token at once');
--- no_error_log
[alert]
[crit]

=== fault 5: a Retry-After of 429 and 503 is honoured, for all tokens
--- run
for my $status (429, 503) {
    my $known = opaque();
    my $token = opaque();
    peer_script({ '/introspect' => { turns => [active(), { status => $status, headers => { 'Retry-After' => 3 } }, active()] } });
    ask($known, $OK, 'known');
    my $asked = requests();
    my $at = int time;
    ask($token, $GONE, "status $status");
    ask($token, $GONE, "status $status: again");
    ask(opaque(), $GONE, "$status: another token");
    ask($known, $OK, "$status: what is known");
    is(requests() - $asked, 1, "$status: asked once");
    until_second($at + 4);
    ask($token, $OK, "$status: after the time that the server named");
    is(requests() - $asked, 2, "$status: asked again");
}
--- timeout: 20
--- no_error_log
[alert]
[crit]

=== fault 6: 200 with what is no answer
--- run
my $good = json(active()->{json});
for (['text/html', { body => $good, headers => { 'Content-Type' => 'text/html' } }], ['no type', { body => $good }],
    ['another JSON', { body => $good, headers => { 'Content-Type' => 'application/json5' } }],
    ['a signed one that was not asked for', { body => $good, headers => { 'Content-Type' => 'application/token-introspection+jwt' } }],
    ['empty', text('')], ['white space', text(" \r\n")], ['cut', text(substr $good, 0, -1)], ['BOM', text("\xEF\xBB\xBF$good")],
    ['not UTF-8', text($good =~ s/user-1/\xff/r)], ['UTF-16', text(join '', map { "$_\0" } split //, $good)],
    ['two objects', text($good . $good)], ['an array', text("[$good]")], ['twice active', text($good =~ s/\{/{"active":true,/r)],
    ['"true"', text($good =~ s/"active":true/"active":"true"/r)], ['1', text($good =~ s/"active":true/"active":1/r)],
    ['no active', text($good =~ s/"active":true,//r)], ['null', text('null')], ['deep', text($good =~ s/"user-1"/('[' x 5000) . (']' x 5000)/er)]) {
    my ($what, $answer) = @$_;
    my $token = opaque();
    peer_script({ '/introspect' => { turns => [$answer, text($good)] } });
    ask($token, $GONE, "an answer that is $what");
    ask($token, $OK, "after one that is $what");
}
--- no_error_log
[alert]
[crit]

=== fault 7: bodies without end: cut at 256 KiB, nothing is decompressed, and the worker keeps its size
--- run
my $token = opaque();
my $json = 'Content-Type: application/json';
my $chunk = { base64 => Keybound::encode_base64("10000\r\n" . (' ' x 65536) . "\r\n", '') };
my @bodies = (
    ['1 MiB', { %{ active() }, pad => 1 }], ['1 MiB in chunks', { %{ active() }, pad => 1, chunked => \1 }],
    ['1 GiB in chunks without end', [{ send => "HTTP/1.1 200 OK\r\n$json\r\nTransfer-Encoding: chunked\r\n\r\n" }, { %$chunk, repeat => 16384 }]],
    ['1 GiB announced', [{ send => "HTTP/1.1 200 OK\r\n$json\r\nContent-Length: 1073741824\r\n\r\n" }, { base64 => Keybound::encode_base64(' ' x 65536, ''), repeat => 16384 }]],
    ['1 GiB to the end of the connection', [{ send => "HTTP/1.1 200 OK\r\n$json\r\n\r\n" }, { base64 => Keybound::encode_base64(' ' x 65536, ''), repeat => 16384 }]],
    ['a head without end', [{ send => "HTTP/1.1 200 OK\r\nX: " }, { base64 => Keybound::encode_base64('x' x 65536, ''), repeat => 16384 }]],
    ['headers without end', [{ send => "HTTP/1.1 200 OK\r\n" }, { send => "X: y\r\n" x 1000, repeat => 100000 }]],
    ['interim answers without end', { send => "HTTP/1.1 103 Early Hints\r\n\r\n" x 100, repeat => 100000 }],
    ['a line of a chunk without end', [{ send => "HTTP/1.1 200 OK\r\n$json\r\nTransfer-Encoding: chunked\r\n\r\n1;" }, { base64 => Keybound::encode_base64('x' x 65536, ''), repeat => 16384 }]],
);
sub flood {
    my ($times) = @_;
    for (@bodies) {
        my ($what, $answer) = @$_;
        peer_script({ '/introspect' => $answer });
        for my $i (1 .. $times) {
            my $from = Time::HiRes::time();
            ask($token, $GONE, "$what, $i");
            cmp_ok(Time::HiRes::time() - $from, '<', 1.9, "$what, $i: cut, not timed out");
        }
    }
}
flood(1);
my $before = resident();
flood(3);
my $grown = resident() - $before;
diag("resident memory of the worker: $before KiB, and $grown KiB more after " . 3 * @bodies . ' of them');
cmp_ok($grown, '<', 4096, 'KiB that the worker grew by');
peer_script({ '/introspect' => text(json(active()->{json}) . ' ' x 200_000) });
ask($token, $OK, 'what is long, and not too long');
--- timeout: 60
--- no_error_log
[alert]
[crit]

=== fault 7: what is compressed is not read, whatever it would hold
--- run
my $token = opaque();
peer_script({ '/introspect' => text(json(active()->{json}) . ' ' x 200_000) });
ask(opaque(), $OK, 'long, and not compressed') for 1 .. 5;
my $before = resident();
for (['200 MiB in 200 KiB', { %{ active() }, pad => 200, gzip => \1 }], ['a small one', { %{ active() }, gzip => \1 }],
    ['a small one in chunks', { %{ active() }, gzip => \1, chunked => \1 }],
    ['that does not say so', { %{ active() }, gzip => \1, headers => { 'Content-Encoding' => undef } }],
    ['that only says so', { %{ active() }, headers => { 'Content-Encoding' => 'gzip' } }]) {
    my ($what, $answer) = @$_;
    peer_script({ '/introspect' => $answer });
    ask($token, $GONE, $what);
}
my $grown = resident() - $before;
diag("resident memory of the worker: $before KiB, and $grown KiB more after a bomb");
cmp_ok($grown, '<', 4096, 'KiB that the worker grew by');
is(peer_log()->{log}[0]{requests}[0]{headers}{'accept-encoding'}, 'identity', 'nothing compressed was asked for');
peer_script({ '/introspect' => active() });
ask($token, $OK, 'as it is');
--- timeout: 60
--- no_error_log
[alert]
[crit]

=== fault 8: a length that is wrong, a connection that ends early: no part of an answer is used
--- run
my $good = json(active()->{json});
my $length = length $good;
my $head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
my $said = sub { my ($headers, $body, @then) = @_; return [{ send => "$head$headers\r\n$body" }, @then] };
my ($end, $cut, $reset) = ({ close => \1 }, { close => 'abrupt' }, { reset => \1 });
for (['longer than it is', $said->('Content-Length: ' . ($length + 1) . "\r\n", $good, $end)],
    ['longer, cut', $said->('Content-Length: ' . ($length + 1) . "\r\n", $good, $cut)],
    ['longer, reset', $said->('Content-Length: ' . ($length + 1) . "\r\n", $good, $reset)],
    ['shorter', $said->('Content-Length: ' . ($length - 1) . "\r\n", $good)],
    ['negative', $said->("Content-Length: -1\r\n", $good, $end)], ['two', $said->("Content-Length: $length\r\nContent-Length: " . ($length - 1) . "\r\n", $good, $end)],
    ['a list', $said->("Content-Length: $length, $length\r\n", $good, $end)], ['with chunks', $said->("Content-Length: $length\r\nTransfer-Encoding: chunked\r\n", sprintf("%x\r\n%s\r\n0\r\n\r\n", $length, $good), $end)],
    ['beyond all', $said->("Content-Length: 99999999999999999999\r\n", $good, $end)],
    ['no last chunk', $said->("Transfer-Encoding: chunked\r\n", sprintf("%x\r\n%s\r\n", $length, $good), $end)],
    ['half of the last chunk', $said->("Transfer-Encoding: chunked\r\n", sprintf("%x\r\n%s\r\n0\r\n", $length, $good), $cut)],
    ['a chunk that is longer', $said->("Transfer-Encoding: chunked\r\n", sprintf("%x\r\n%s\r\n0\r\n\r\n", $length + 1, $good), $end)],
    ['a chunk that is shorter', $said->("Transfer-Encoding: chunked\r\n", sprintf("%x\r\n%s\r\n0\r\n\r\n", $length - 1, $good), $end)],
    ['to the end of the connection, cut', $said->('', substr($good, 0, -1), $cut)], ['nothing', [$end]], ['nothing, cut', [$cut]], ['reset', [$reset]],
    ['no HTTP', [{ send => "$good\r\n\r\n" }, $end]], ['HTTP/0.9', [{ send => $good }, $end]], ['HTTP/2', [{ send => "HTTP/2 200\r\n\r\n$good" }, $end]]) {
    my ($what, $answer) = @$_;
    my $token = opaque();
    # Where nothing came at all on a connection that was kept, it is tried once more on a new one.
    my @answers = ($answer) x ($what =~ /^(?:nothing|reset)/ ? 2 : 1);
    peer_script({ '/introspect' => { turns => [@answers, text($good)] } });
    ask($token, $GONE, $what);
    ask($token, $OK, "$what: then the right one");
}
peer_script({ '/introspect' => $said->("Content-Length: $length\r\n", $good) });
ask(opaque(), $OK, 'the right one');
peer_script({ '/introspect' => $said->("Transfer-Encoding: chunked\r\n", sprintf("%x\r\n%s\r\n0\r\n\r\n", $length, $good)) });
ask(opaque(), $OK, 'the right one in chunks');
peer_script({ '/introspect' => $said->('', $good, $end) });
ask(opaque(), $OK, 'the right one to the end of the connection');
--- no_error_log
[alert]
[crit]

=== fault 9: a redirect is not followed, neither to another host nor to http nor to the host itself
--- engine
kb = asking()
keys = verifying()
found = verifying { issuer = "$PEER/found", jwks_uri = cjson.null }
other = asking { introspection_endpoint = "$PEER_OTHER/introspect" }
--- tls
location /keys { access_by_lua_block { keys:access() } content_by_lua_block { ngx.say("passed") } }
location /found { access_by_lua_block { found:access() } content_by_lua_block { ngx.say("passed") } }
location /other { access_by_lua_block { other:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $port = peer_start('other')->{port};
my $token = opaque();
my @signed = (token(for => 'client', claims => { iss => $PEER }), token(for => 'client', claims => { iss => "$PEER/found" }));
peer_script({ '*' => active() }, 'other');
peer_control('/log/clear', {}, 'other');
ask($token, $OK, 'there is something at the other', path => '/other');
is(peer_log('other')->{requests}, 1, 'its log shows it');
for my $status (301, 302, 303, 307, 308) {
    for my $to ("https://localhost:$port/introspect", "http://localhost:$port/introspect", "//localhost:$port/introspect", '/elsewhere') {
        peer_control('/log/clear', {}, 'other');
        peer_script({ '/introspect' => { status => $status, headers => { Location => $to }, json => active()->{json} }, '/elsewhere' => active() });
        ask($token, $GONE, "$status to $to");
        is(peer_log('other')->{connections}, 0, "$status to $to: no connection there");
        is(requests('/elsewhere'), 0, "$status to $to: no second request");
    }
}
peer_script({ '/jwks' => { status => 302, headers => { Location => "https://localhost:$port/jwks" } }, '/found' => { status => 302, headers => { Location => "https://localhost:$port/" } } });
peer_control('/log/clear', {}, 'other');
ask($signed[0], '503 - keys_unavailable', 'keys', path => '/keys');
ask($signed[1], '503 - keys_unavailable', 'metadata', path => '/found');
is(peer_log('other')->{connections}, 0, 'keys and metadata: no connection there');
peer_script({ '/introspect' => active() });
ask($token, $OK, 'the same token where there is no redirect');
--- timeout: 60
--- no_error_log
[alert]
[crit]

=== fault 10: a server that is not to be trusted gets no request
--- engine
kb = asking()
named = {}
named.expired = asking { introspection_endpoint = "$PEER_EXPIRED/introspect" }
named.named = asking { introspection_endpoint = "$PEER_NAMED/introspect" }
named.strange = asking { introspection_endpoint = "$PEER_STRANGE/introspect" }
named.plain = asking { introspection_endpoint = "$PEER_PLAIN/introspect" }
named.old = asking { introspection_endpoint = "$PEER_OLD/introspect" }
named.keys = verifying { jwks_uri = "$PEER_EXPIRED/jwks" }
named.other = asking { introspection_endpoint = "$PEER_OTHER/introspect" }
named.trusting = asking { introspection_endpoint = "$PEER_STRANGE/introspect", ssl_trusted_certificate = "$PKI/other-ca.crt" }
--- tls
location /at/ { access_by_lua_block { named[ngx.var.uri:sub(5)]:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $token = opaque();
my %said = (expired => 'certificate has expired', named => 'is not for \\\\?"localhost', strange => 'unable to get local issuer certificate', plain => 'outcome=tls', old => 'outcome=tls');
for my $name (sort keys %said) {
    # What a server without TLS says first.
    peer_script($name eq 'plain' ? { connect => [{ send => "HTTP/1.1 400 Bad Request\r\n\r\n" }, { close => \1 }] } : { '*' => active() }, $name);
    peer_control('/log/clear', {}, $name);
    my $response = ask($token, $GONE, $name, path => "/at/$name");
    my $log = log_since();
    like($log, qr/request to the authorization server failed, endpoint=introspection, .*$said{$name}/, "$name: the log says why") or diag($log);
    is(peer_log($name)->{requests}, 0, "$name: no request came");
    cmp_ok(peer_log($name)->{connections}, '>=', 1, "$name: the connection did");
}
peer_control('/log/clear', {}, 'expired');
ask(token(for => 'client', claims => { iss => $PEER }), '503 - keys_unavailable', 'keys', path => '/at/keys');
is(peer_log('expired')->{requests}, 0, 'keys: no request came');
peer_script({ '*' => active() }, 'other');
ask($token, $OK, 'one that is trusted', path => '/at/other');
ask(opaque(), $OK, 'one by a CA that is trusted there', path => '/at/trusting');
--- no_error_log
[alert]

=== fault 11: two answers at once: the second is nobody's, and the connection is closed
--- run
my $whole = sub { my ($answer, $size) = @_;
    my $body = json($answer->{json});
    my $head = sub { "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: $_[0]\r\n\r\n" };
    my $bytes = $head->(length $body) . $body;
    return $bytes unless $size;
    # As long as a buffer: what is behind it is not read with it.
    my $more = $size - length $bytes;
    $more-- while length($head->(length($body) + $more)) + length($body) + $more > $size;
    return $head->(length($body) + $more) . $body . ' ' x $more;
};
for my $size (0, 1024, 2048, 4096, 8192, 16384, 32768) {
    for my $how ('one write', 'two writes') {
        my @both = ($whole->(inactive(), $size), $whole->(active()));
        is(length $both[0], $size, 'size') if $size;
        my @answer = $how eq 'one write' ? { send => join '', @both } : map { { send => $_ } } @both;
        peer_script({ '/introspect' => { turns => [[@answer], inactive(), active()] } });
        my $asked = requests();
        ask(opaque(), '401 invalid_token token_inactive', "$how after $size: the first");
        ask(opaque(), '401 invalid_token token_inactive', "$how after $size: not the answer of the other");
        ask(opaque(), $OK, "$how after $size: then its own");
        is(requests() - $asked, 3, "$how after $size: each was asked about");
    }
}
--- timeout: 60
--- no_error_log
[alert]
[crit]

=== fault 11: late bytes: a connection that has something to read while nothing was asked is closed
--- run
my $late = { send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " . length(json(active()->{json})) . "\r\n\r\n" . json(active()->{json}) };
for my $ms (1, 20, 100) {
    peer_script({ '/introspect' => { turns => [[inactive(), { wait => $ms }, $late], inactive(), active()] } });
    ask(opaque(), '401 invalid_token token_inactive', "$ms ms: the first");
    select undef, undef, undef, 0.25;
    ask(opaque(), '401 invalid_token token_inactive', "$ms ms: not the late answer");
    ask(opaque(), $OK, "$ms ms: then its own");
}
# And after an answer that cannot be read the connection is not used again.
for my $bad ({ send => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5, 5\r\n\r\n" }, { send => "junk\r\n\r\n" },
    { send => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" }) {
    peer_script({ '/introspect' => { turns => [active(), [$bad, { wait => 50 }, $late], inactive()] } });
    ask(opaque(), $OK, 'a connection that is kept');
    peer_control('/log/clear');
    ask(opaque(), $GONE, 'an answer that cannot be read');
    ask(opaque(), '401 invalid_token token_inactive', 'then another one');
    is(peer_log()->{log}[-1]{requests}[0]{path}, '/introspect', 'asked');
    is(peer_log()->{connections}, 1, 'on a new connection');
}
--- no_error_log
[alert]
[crit]

=== fault 12: active, and yet not for this request: 401 for each member that is wrong
--- run
my $now = int time;
my $invalid = '401 invalid_token';
for (['past exp', { exp => $now - 1 }, 'token_expired'], ['exp in words', { exp => 'tomorrow' }, 'claims_malformed'],
    ['exp as a string', { exp => $now + 600 . '' }, 'claims_malformed'],
    ['other aud', { aud => 'https://other.test' }, 'audience_mismatch'], ['no aud', { aud => undef }, 'claim_missing'], ['aud a number', { aud => 7 }, 'claims_malformed'],
    ['other iss', { iss => "$PEER/" }, 'issuer_mismatch'], ['iss a number', { iss => 7 }, 'claims_malformed'],
    ['no cnf', { cnf => undef }, 'token_unbound'], ['empty cnf', { cnf => {} }, 'confirmation_malformed'], ['cnf a string', { cnf => thumbprint('client') }, 'confirmation_malformed'],
    ['another certificate', { cnf => { 'x5t#S256' => thumbprint('thief') } }, 'certificate_mismatch'],
    ['x5t alone', { cnf => { x5t => thumbprint('client') } }, 'confirmation_unsupported'], ['jkt', { token_type => 'DPoP', cnf => { jkt => thumbprint('client') } }, 'confirmation_unsupported'],
    ['jkt besides', { token_type => 'DPoP', cnf => { 'x5t#S256' => thumbprint('client'), jkt => thumbprint('client') } }, 'confirmation_unsupported'],
    ['jkt of Bearer', { cnf => { jkt => thumbprint('client') } }, 'confirmation_malformed'],
    ['the thumbprint padded', { cnf => { 'x5t#S256' => thumbprint('client') . '=' } }, 'confirmation_malformed'],
    ['the thumbprint outside of cnf', { cnf => undef, 'x5t#S256' => thumbprint('client') }, 'token_unbound'],
    ['nbf ahead', { nbf => $now + 300 }, 'token_not_yet_valid'], ['iat ahead', { iat => $now + 300 }, 'token_issued_in_future'],
    ['of DPoP', { token_type => 'DPoP' }, 'confirmation_malformed'], ['a refresh token', { token_type => 'refresh_token' }, 'not_an_access_token']) {
    my ($what, $members, $reason) = @$_;
    my $token = opaque();
    peer_script({ '/introspect' => active(%$members) });
    ask($token, "$invalid $reason", $what);
    ask($token, "$invalid $reason", "$what: again");
}
for (['as it should be', {}], ['without iss', { iss => undef }], ['without exp (RFC 7662 has it optional)', { exp => undef }], ['several aud', { aud => ['https://other.test', 'https://api.test'] }], ['without type', { token_type => undef }]) {
    my ($what, $members) = @$_;
    my $token = opaque();
    peer_script({ '/introspect' => active(%$members) });
    ask($token, $OK, $what);
    ask($token, "$invalid certificate_mismatch", "$what: the thief", cert => 'thief');
    ask($token, "$invalid certificate_missing", "$what: nobody", cert => '-');
}
--- no_error_log
[alert]
[crit]

=== fault 8: a kept connection that the server closes instead of answering is no answer, and another one is tried; a new one is not
--- run
my $asked = requests();
peer_script({ '/introspect' => { turns => [active(), { close => \1 }, active()] } });
ask(opaque(), $OK, 'a connection is made and kept');
ask(opaque(), $OK, 'closed: the request is made on another one');
is(requests() - $asked, 3, 'once more, and not oftener');
peer_script({ '/introspect' => { turns => [[active(), { close => \1 }], { close => \1 }, active()] } });
ask(opaque(), $OK, 'a connection that ends after the answer');
ask(opaque(), '503 - introspection_unavailable', 'a new one that is closed is an answer that failed');
--- no_error_log
[alert]
[crit]
