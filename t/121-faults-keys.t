# Faults of keys, metadata and clocks: what was learnt of a server is kept as long as it may be, and exchanged for nothing worse.
use Keybound;
use Faults;
use Test::Nginx::Socket 'no_plan';

our $NONE = '503 - keys_unavailable';
our $OK = '200';
our $UNKNOWN = '401 invalid_token key_unknown';
our $FORGED = '401 invalid_token signature_invalid';
our $WELL_KNOWN = '/.well-known/openid-configuration';

# A token of the peer, or of an issuer with this path
sub signed { my ($key, $path, %how) = @_; return token(for => 'client', key => $key, %how, claims => { iss => $PEER . ($path // ''), %{ $how{claims} // {} } }) }

# until_same_second(CODE): runs it within one second of the clock; it gets the second
sub within_a_second {
    my ($code) = @_;
    for (1 .. 10) {
        Time::HiRes::sleep(1.02 - (Time::HiRes::time() - int Time::HiRes::time())) if Time::HiRes::time() - int(Time::HiRes::time()) > 0.5;
        my $now = int Time::HiRes::time();
        my $result = $code->($now);
        return $result if int(Time::HiRes::time()) == $now;
    }
    return 'never within a second';
}

run_tests();

__DATA__

=== fault 13: keys rotate in the middle of traffic: one fetch, then all is well; old tokens end with their key
--- engine
kb = verifying { keys_max_age = 3 }
--- run
my ($es, $rs) = (signed('es256'), signed('rs256'));
peer_script({ '/jwks' => jwks_of('es') });
my $asked = requests('/jwks');
ask($es, $OK, 'the first key');
is(requests('/jwks') - $asked, 1, 'fetched');
peer_script({ '/jwks' => jwks_of('es', 'rs') });
ask($rs, $OK, 'another key');
is(requests('/jwks') - $asked, 2, 'fetched for it');
ask($es, $OK, 'the first key is there');
peer_script({ '/jwks' => jwks_of('rs') });
my $at = int time;
ask($es, $OK, 'the first key was taken away a moment ago') for 1 .. 3;
is(requests('/jwks') - $asked, 2, 'nothing is fetched for tokens that are good');
until_second($at + 4);
ask($rs, $OK, 'the other key, after keys_max_age');
ask($es, $UNKNOWN, 'the first key, after keys_max_age');
ask(signed('es256'), $UNKNOWN, 'another token of the first key');
is(requests('/jwks') - $asked, 3, 'fetched once more');
--- no_error_log
[error]
[alert]
[crit]

=== fault 14: another key under the same `kid`: one fetch, and then it is that
--- engine
kb = verifying()
two = verifying { issuers_allowed = { { issuer = "$PEER/two", jwks_uri = "$PEER/two/jwks",
    ssl_trusted_certificate = "$PKI/ca.crt" } } }
--- tls
location /two { access_by_lua_block { two:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my ($old, $new) = (signed('es256'), signed('rogue'));
peer_script({ '/jwks' => jwks_of('es') });
my $asked = requests('/jwks');
ask($old, $OK, 'the key');
peer_script({ '/jwks' => jwks_of('rogue') });
ask($new, $OK, 'another key of this name');
is(requests('/jwks') - $asked, 2, 'fetched for it');
ask($old, $FORGED, 'the old key');
ask($old, $FORGED, 'the old key') for 1 .. 3;
is(requests('/jwks') - $asked, 2, 'and not again');
# Two issuers have keys of one name.
peer_script({ '/jwks' => jwks_of('es'), '/two/jwks' => jwks_of('rogue') });
ask(signed('es256'), $OK, 'the one', path => '/two');
ask(signed('rogue', '/two'), $OK, 'the other', path => '/two');
ask(signed('rogue'), $FORGED, 'the one, by the key of the other', path => '/two');
ask(signed('es256', '/two'), $FORGED, 'the other, by the key of the one', path => '/two');
--- no_error_log
[error]
[alert]
[crit]

=== fault 15: 10 000 tokens of keys that are not there: one fetch, and those of good keys do not notice
--- engine
kb = verifying()
function flood(n, first)
    local b64 = require("ngx.base64").encode_base64url
    local claims = b64(cjson.encode { iss = "$PEER", aud = "https://api.test", sub = "u", client_id = "c", iat = ngx.time(), jti = "j", exp = ngx.time() + 600,
        cnf = { ["x5t#S256"] = ngx.var.arg_x } })
    local reasons = {}
    for i = first, first + n - 1 do
        ngx.req.set_header("Authorization", "Bearer " .. b64(cjson.encode { typ = "at+jwt", alg = "ES256", kid = "unknown-" .. i }) .. "." .. claims .. "." .. ("A"):rep(86))
        local result, err = kb:decide()
        local reason = result and result.reason or err
        reasons[reason] = (reasons[reason] or 0) + 1
    end
    return reasons
end
--- tls
location /flood { content_by_lua_block { for reason, n in pairs(flood(1000, tonumber(ngx.var.arg_first))) do ngx.say(reason, " ", n) end } }
--- run
peer_script({ '/jwks' => jwks_of('es') });
my $good = signed('es256');
ask($good, $OK, 'before');
my $asked = requests('/jwks');
my @flood = map { my ($curl, @words) = Keybound::_curl_words(cert => 'client', path => "/flood?first=${_}000&x=" . thumbprint('client'));
    Keybound::start_command('', $curl, @words) } 1 .. 10;
my $load = load(300, cert => 'client', authorization => "Bearer $good");
my %reasons;
for (@flood) {
    my ($status, $out) = Keybound::finish_command($_);
    $reasons{$1} += $2 while $out =~ /(\S+) (\d+)/g;
}
diag(join ', ', map { "$_: $reasons{$_}" } sort keys %reasons);
show_load('good tokens meanwhile', $load);
is($reasons{key_unknown}, 10000, 'all are refused');
is(requests('/jwks') - $asked, 1, 'fetches for all of them');
is($load->{failed}, 0, 'no request of others failed');
--- timeout: 60
--- no_error_log
[error]
[alert]
[crit]

=== fault 16: what is wrong with a set costs the keys it is wrong with, and a set that is none costs nothing
--- engine
kb = verifying { keys_max_age = 1, rediscovery_lifetime = 1 }
--- run
my ($es, $rs) = (signed('es256'), signed('rs256'));
my ($good) = set_of('es');
my ($other) = set_of('rs');
my @bad = map { my $i = $_; (
    { kty => 'EC', crv => 'P-256', kid => "bad$i", x => 'AA', y => 'AA' }, { kty => 'RSA', kid => "bad$i", n => 'AQAB', e => 'AQAB' },
    { kty => 'oct', kid => "bad$i", k => 'c2VjcmV0' }, { kty => 'XX', kid => "bad$i" }, { kid => "bad$i" }, { %$good, kid => "enc$i", use => 'enc' },
    { %$good, kid => "x$i", y => $good->{x} }) } 1 .. 9;
peer_script({ '/jwks' => { json => { keys => [@bad, $good] } } });
ask($es, $OK, '1 good and ' . @bad . ' bad keys');
my $n = 0;
for (['5000 keys', { json => { keys => [map { +{ %$other, kid => "k$_" } } 1 .. 5000] } }], ['65 keys', { json => { keys => [map { +{ %$other, kid => "k$_" } } 1 .. 65] } }],
    ['10 MiB', { %{ jwks_of('rs') }, pad => 10 }], ['300 KiB', { %{ jwks_of('rs') }, pad => 0.3 }], ['no keys', { json => {} }], ['an empty body', { json => undef, headers => { 'Content-Type' => 'application/json' }, body => '' }],
    ['half of it', { headers => { 'Content-Type' => 'application/json' }, body => substr json(jwks_of('rs')->{json}), 0, -2 }], ['text/html', { %{ jwks_of('rs') }, headers => { 'Content-Type' => 'text/html' } }],
    ['status 500', { %{ jwks_of('rs') }, status => 500 }]) {
    my ($what, $answer) = @$_;
    delete $answer->{json} unless defined $answer->{json};
    peer_script({ '/jwks' => $answer });
    my $asked = requests('/jwks');
    until_second(int(time) + 2);
    ask($es, $OK, "$what: the old set stays");
    is(requests('/jwks') - $asked, 1, "$what: the server was asked");
    my $response = do { log_mark(); call(cert => 'client', authorization => "Bearer $rs") };
    isnt($response->{status}, 200, "$what: nothing of it is used");
}
peer_script({ '/jwks' => jwks_of('rs') });
until_second(int(time) + 2);
ask($rs, $OK, 'then a good one');
ask($es, $UNKNOWN, 'and the old set is gone');
--- timeout: 60
--- no_error_log
[alert]
[crit]

=== fault 16: private and symmetric keys in a set are not used
--- engine
kb = verifying()
--- run
my ($public) = set_of('es');
my ($d) = (command('', qw(openssl pkey -noout -text -in), "$PKI/as-es256.key"))[1] =~ /priv:\s*((?:[0-9a-f]{2}[:\s]*)+)/;
$d = Keybound::_base64url(pack 'H*', $d =~ s/[:\s]//gr);
my ($rs) = set_of('rs');
peer_script({ '/jwks' => { json => { keys => [{ %$public, d => $d }, { kty => 'oct', kid => 'es', alg => 'HS256', k => Keybound::_base64url('secret' x 8) }, $rs] } } });
ask(signed('rs256'), $OK, 'the public one');
ask(signed('es256'), $UNKNOWN, 'the private one');
my ($head, $claims) = split /\./, signed('es256', '', header => { alg => 'HS256' });
my $mac = (command("$head.$claims", qw(openssl dgst -sha256 -binary -hmac), 'secret' x 8))[1];
ask("$head.$claims." . Keybound::_base64url($mac), '401 invalid_token algorithm_refused', 'the symmetric one');
--- no_error_log
[error]
[alert]
[crit]

=== fault 17: the server of the keys is down: the last good set until keys_max_stale, and not beyond; it shows in the metrics
--- http_config
lua_shared_dict counted 1m;
--- engine
kb = verifying({ keys_max_age = 1, keys_max_stale = 5, rediscovery_lifetime = 1 }, { metrics = "counted" })
--- config
location /metrics { content_by_lua_block { kb.metrics("counted") } }
--- run
my $token = signed('es256');
peer_script({ '/jwks' => jwks_of('es') });
my $at = int time;
ask($token, $OK, 'up');
peer_script({ '*' => { status => 500 } });
for my $second (2, 3) {
    until_second($at + $second);
    ask($token, $OK, "down for $second s");
    ask(signed('es256'), $OK, "down for $second s, a token that is not known");
    ask($token, '401 invalid_token certificate_mismatch', "down for $second s, the thief", cert => 'thief');
}
my $page = call(plain => 1, path => '/metrics')->{body};
like($page, qr/^keybound_as_requests_total\{[^}]*endpoint="jwks",outcome="status"\} [1-9]/m, 'the metrics show it') or diag($page);
until_second($at + 6);
ask($token, $NONE, 'beyond keys_max_stale') for 1, 2;
$page = call(plain => 1, path => '/metrics')->{body};
like($page, qr/^keybound_requests_total\{[^}]*reason="keys_unavailable"[^}]*\} 2$/m, 'so do they') or diag($page);
peer_script({ '/jwks' => jwks_of('es') });
until_second(int(time) + 2);
ask($token, $OK, 'up again');
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 18: metadata that changes its issuer, or the host of its keys: refused, and the old keys stay
--- engine
engines = {}
for _, name in ipairs { "issuer", "host", "port", "scheme", "gone" } do
    engines[name] = verifying { issuer = "$PEER/" .. name, jwks_uri = cjson.null, keys_max_age = 1, rediscovery_lifetime = 1 }
end
other = "$PEER_OTHER"
--- tls
location /at/ { access_by_lua_block { engines[ngx.var.uri:sub(5)]:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $port = peer_start('other')->{port};
my $document = sub { my ($name, %more) = @_; return { json => { issuer => "$PEER/$name", jwks_uri => "$PEER/$name/jwks", %more } } };
my @names = qw(issuer host port scheme gone);
my %good = map { ("/$_/jwks" => jwks_of('es'), "/$_$WELL_KNOWN" => $document->($_)) } @names;
peer_script(\%good);
peer_script({ '*' => jwks_of('rogue') }, 'other');
peer_control('/log/clear', {}, 'other');
my %tokens = map { $_ => [signed('es256', "/$_"), signed('rogue', "/$_")] } @names;
ask($tokens{$_}[0], $OK, "$_: before", path => "/at/$_") for @names;
peer_script({ %good, '/evil/jwks' => jwks_of('rogue'),
    '/issuer' . $WELL_KNOWN, $document->('issuer', issuer => "$PEER/evil", jwks_uri => "$PEER/evil/jwks") ,
    '/host' . $WELL_KNOWN, $document->('host', jwks_uri => "https://127.0.0.1:$port/jwks"),
    '/port' . $WELL_KNOWN, $document->('port', jwks_uri => "https://localhost.:$port/jwks"),
    '/scheme' . $WELL_KNOWN, $document->('scheme', jwks_uri => "http://localhost:$port/jwks"),
    '/gone' . $WELL_KNOWN, { json => { issuer => "$PEER/gone" } } });
my $asked = requests('/evil');
until_second(int(time) + 2);
for my $name (@names) {
    my $documents = requests("/$name$WELL_KNOWN");
    ask($tokens{$name}[0], $OK, "$name: the old keys", path => "/at/$name");
    my $response = do { log_mark(); call(cert => 'client', authorization => "Bearer $tokens{$name}[1]", path => "/at/$name") };
    isnt($response->{status}, 200, "$name: not the new ones");
    cmp_ok(requests("/$name$WELL_KNOWN"), '>', $documents, "$name: the metadata was asked for");
}
is(requests('/evil'), $asked, 'no request to the other URL');
is(peer_log('other')->{connections}, 0, 'no connection to the other host');
peer_script(\%good);
until_second(int(time) + 2);
ask($tokens{$_}[0], $OK, "$_: after", path => "/at/$_") for @names;
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 18: likewise the endpoint of introspection: what a document names elsewhere is not called
--- engine
kb = asking { introspection_endpoint = cjson.null, keys_max_age = 1, rediscovery_lifetime = 1, introspection_cache_ttl = 0 }
other = "$PEER_OTHER"
--- run
my $port = peer_start('other')->{port};
my $good = { json => { issuer => $PEER, introspection_endpoint => "$PEER/introspect" } };
peer_script({ '/introspect' => active(), $WELL_KNOWN => $good });
peer_script({ '*' => active() }, 'other');
peer_control('/log/clear', {}, 'other');
my $token = opaque();
ask($token, $OK, 'before');
for (["https://127.0.0.1:$port/introspect"], ["http://localhost:$port/introspect"]) {
    peer_script({ '/introspect' => active(), $WELL_KNOWN => { json => { issuer => $PEER, introspection_endpoint => $_->[0] } } });
    until_second(int(time) + 2);
    ask($token, '503 - metadata_unavailable', "at $_->[0]");
}
# The document of another issuer is none: the old one stays.
peer_script({ '/introspect' => active(), $WELL_KNOWN => $good });
until_second(int(time) + 2);
ask($token, $OK, 'then the right one');
peer_script({ '/introspect' => active(), $WELL_KNOWN => { json => { issuer => "$PEER/", introspection_endpoint => "https://127.0.0.1:$port/introspect" } } });
until_second(int(time) + 2);
ask($token, $OK, 'another issuer: the old document stays');
is(peer_log('other')->{connections}, 0, 'no connection to the other host');
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 19: metadata names a host that the operator did not: it is not contacted
--- engine
other = "$PEER_OTHER"
engines = {}
for i = 1, 9 do
    engines[tostring(i)] = verifying { issuer = "$PEER/" .. i, jwks_uri = cjson.null }
end
engines["named"] = verifying { issuer = "$PEER/named", jwks_uri = cjson.null, endpoint_hosts = { "127.0.0.1" } }
--- tls
location /at/ { access_by_lua_block { engines[ngx.var.uri:sub(5)]:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $port = peer_start('other')->{port};
my @urls = ("https://127.0.0.1:$port/jwks", "https://[::1]:$port/jwks", "https://127.1:$port/jwks", "https://2130706433:$port/jwks", "https://0x7f.0.0.1:$port/jwks",
    "https://localhost\@127.0.0.1:$port/jwks", "https://localhost.localdomain:$port/jwks", "https://169.254.169.254/latest", "http://localhost:$port/jwks");
peer_script({ '*' => jwks_of('es') }, 'other');
peer_control('/log/clear', {}, 'other');
peer_script({ '/jwks' => jwks_of('es'), map { ("/$_$WELL_KNOWN" => { json => { issuer => "$PEER/$_", jwks_uri => $urls[$_ - 1] } }) } 1 .. @urls });
for (1 .. @urls) {
    ask(signed('es256', "/$_"), $NONE, $urls[$_ - 1], path => "/at/$_");
    like(log_since(), qr/detail=(?:[^\n]*jwks_uri of the metadata (?:names the host|is not an https URL))/, "$urls[$_ - 1]: the log says why");
}
is(peer_log('other')->{connections}, 0, 'no connection was made');
peer_script({ "/named$WELL_KNOWN" => { json => { issuer => "$PEER/named", jwks_uri => $urls[0] } } });
ask(signed('es256', '/named'), $OK, 'named in endpoint_hosts', path => '/at/named');
is(peer_log('other')->{requests}, 1, 'there it was fetched');
--- timeout: 30
--- no_error_log
[alert]
[crit]

=== fault 20: clocks that differ: the same limits for what a token says and for what the server says of it
--- engine
kb = asking()
jwt = verifying()
lenient = asking { leeway = 30 }
--- tls
location /jwt { access_by_lua_block { jwt:access() } content_by_lua_block { ngx.say("passed") } }
location /lenient { access_by_lua_block { lenient:access() } content_by_lua_block { ngx.say("passed") } }
--- run
peer_script({ '/jwks' => jwks_of('es') });
ask(signed('es256'), $OK, 'keys are there', path => '/jwt');
sub at {
    my ($members, $path) = @_;
    return within_a_second(sub {
        my ($now) = @_;
        my %claims = map { $_ => $now + $members->{$_} } keys %$members;
        my $token = $path eq '/jwt' ? signed('es256', '', claims => \%claims) : opaque();
        peer_script({ '/jwks' => jwks_of('es'), '/introspect' => active(%claims) });
        log_mark();
        my $response = call(cert => 'client', authorization => "Bearer $token", path => $path);
        return join ' ', $response->{status}, (reasons())[0] // ();
    });
}
for (['iat', 5, ''], ['iat', 10, ''], ['iat', 11, ''], ['iat', 60, ''], ['iat', 61, 'token_issued_in_future'], ['iat', 3600, 'token_issued_in_future'],
    ['nbf', 5, ''], ['nbf', 10, ''], ['nbf', 11, 'token_not_yet_valid'], ['nbf', 60, 'token_not_yet_valid'],
    ['exp', 1, ''], ['exp', 0, 'token_expired'], ['exp', -1, 'token_expired']) {
    my ($claim, $offset, $reason) = @$_;
    is(at({ $claim => $offset }, $_), $reason ? "401 401 $reason" : '200', sprintf('%s: %s of now %+d', $_, $claim, $offset)) for '/', '/jwt';
}
for (['exp', -29, ''], ['exp', -30, 'token_expired'], ['nbf', 30, ''], ['nbf', 31, 'token_not_yet_valid'], ['iat', 60, ''], ['iat', 61, 'token_issued_in_future']) {
    my ($claim, $offset, $reason) = @$_;
    is(at({ $claim => $offset }, '/lenient'), $reason ? "401 401 $reason" : '200', sprintf('leeway 30: %s of now %+d', $claim, $offset));
}
--- timeout: 60
--- no_error_log
[alert]
[crit]
