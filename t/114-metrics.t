# What is counted and what is logged: the OpenMetrics page, summed over two workers, and the lines about refusals and failed requests.
use Keybound;
use Digest::SHA ();
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

# Where nobody listens.
our ($gone_port) = Keybound::_free_ports(1);

# `engine` may use `as`: an engine that introspects as `gateway` and counts in the zone `metrics`. Each engine NAME is behind the location
# /NAME, the page behind /metrics of the plain server.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = ($block->engine // 'kb = as {}') =~ s/GONE_PORT/$gone_port/gr;
    $block->set_value(engine => <<'EOL' . $engine);
        function as(more, opts)
            local config = { issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", client_id = "gateway", client_auth = "tls_client_auth",
                tls_client_auth_cert_id = "gateway", client_certificates = { gateway = { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key" } } }
            for name, value in pairs(more) do
                config[name] = value
            end
            return engine(config, opts or { store = "keybound", metrics = "metrics" })
        end
EOL
    $block->set_value(http_config => "lua_shared_dict keybound 1m;\nlua_shared_dict metrics 1m;\nlua_shared_dict idle 1m;\nlua_shared_dict tiny 12k;\nlog_format worker '\$pid';\naccess_log $RUN/access.log worker;\n");
    $block->set_value(tls => ($block->tls // '') . <<'EOC');
        add_header X-Request-Id $request_id always;
        location ~ ^/(\w+)$ {
            access_by_lua_block { _G[ngx.var[1]]:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
    $block->set_value(config => <<'EOC');
        access_log off;
        location ~ ^/(metrics|idle|tiny)$ { content_by_lua_block { require("resty.keybound").metrics(ngx.var[1]) } }
EOC
});

sub passes { my ($call, $name) = @_; return refuses($call, '200', $name) }
sub refuses {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(path => '/kb', %$call);
    check($response, $expected, $name);
    return $response;
}
sub opaque { return { as => 'any', cert => 'client', resource => 'opaque', @_ } }
sub pause { select undef, undef, undef, $_[0] }
sub whole_log { return read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log") }
sub master { return Test::Nginx::Util::get_pid_from_pidfile('metrics') }

# What the other worker has counted is on the page a second later.
sub page {
    my ($zone) = @_;
    pause(1.3);
    return call(plain => 1, path => '/' . ($zone // 'metrics'));
}

# parse(TEXT): { samples => { NAME{LABELS} => VALUE }, families => { NAME => TYPE } }; dies where it is no OpenMetrics text
my %SUFFIXES = (counter => qr/_total|_created/, gauge => qr//, histogram => qr/_bucket|_count|_sum|_created/);
sub parse {
    my ($text) = @_;
    $text =~ s/^# EOF\n\z//m or die "no # EOF at the end\n";
    $text =~ /\r|\n\n|[^\x20-\x7e\n]/ and die "an empty line, or a character that does not belong here\n";
    my (%families, %samples, $current, %described);
    for my $line (split /\n/, $text) {
        if ($line =~ /^# (TYPE|HELP|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/) {
            my ($kind, $name, $rest) = ($1, $2, $3);
            die "$kind twice: $line\n" if $described{$name}{$kind}++;
            die "family in two places: $line\n" if $families{$name} && $current ne $name;
            die "metadata after samples: $line\n" if $families{$name} && $families{$name}{samples};
            $families{$name} //= {};
            $current = $name;
            if ($kind eq 'TYPE') {
                die "no such type: $line\n" unless $SUFFIXES{$rest};
                die "a counter's family has no _total: $line\n" if $rest eq 'counter' && $name =~ /_total$/;
                $families{$name}{type} = $rest;
            }
            if ($kind eq 'HELP') {
                die "HELP is not escaped: $line\n" if $rest =~ /\\(?![\\n"])/;
            }
            if ($kind eq 'UNIT') {
                die "the unit is not in the name: $line\n" if length $rest && $name !~ /_\Q$rest\E$/;
            }
            next;
        }
        my ($name, $labels, $value) = $line =~ /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/ or die "no sample: $line\n";
        die "a sample before any family: $line\n" unless defined $current;
        my $type = $families{$current}{type} or die "a sample before TYPE: $line\n";
        $name =~ /^\Q$current\E(?:$SUFFIXES{$type})$/ or die "a sample of another family than $current: $line\n";
        $families{$current}{samples}++;
        my %labels;
        my $rest = $labels // '';
        while (length $rest) {
            $rest =~ s/^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,(?=.)|$)// or die "no labels: $line\n";
            die "a label twice: $line\n" if exists $labels{$1};
            $labels{$1} = $2;
        }
        $value =~ /^(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)$/ or die "no number that counts: $line\n";
        die "no whole number: $line\n" if $name =~ /_(?:total|bucket|count)$/ && $value !~ /^[0-9]+$/;
        my $key = "$name\{" . join(',', map { "$_=$labels{$_}" } sort keys %labels) . '}';
        die "a sample twice: $line\n" if exists $samples{$key};
        $samples{$key} = { name => $name, value => $value, labels => \%labels };
    }
    for my $family (keys %families) {
        $families{$family}{type} && $described{$family}{HELP} or die "$family has no TYPE or no HELP\n";
    }
    return { samples => \%samples, families => { map { $_ => $families{$_}{type} } keys %families } };
}

# of(PAGE, NAME, LABELS): the sum of the samples that have these labels
sub of {
    my ($page, $name, %labels) = @_;
    my $sum = 0;
    for my $sample (values %{ $page->{samples} }) {
        next if $sample->{name} ne $name || grep { ($sample->{labels}{$_} // '') ne $labels{$_} } keys %labels;
        $sum += $sample->{value};
    }
    return $sum;
}

# What is wrong with the histograms of a page.
sub wrong_histograms {
    my ($page) = @_;
    my @wrong;
    for my $family (grep { $page->{families}{$_} eq 'histogram' } keys %{ $page->{families} }) {
        my %series;
        for my $sample (values %{ $page->{samples} }) {
            next unless $sample->{name} =~ /^\Q$family\E_(bucket|count|sum)$/;
            my $kind = $1;
            my %labels = %{ $sample->{labels} };
            my $le = delete $labels{le};
            my $id = json(\%labels);
            if ($kind eq 'bucket') { $series{$id}{buckets}{$le} = $sample->{value} } else { $series{$id}{$kind} = $sample->{value} }
        }
        for my $id (keys %series) {
            my %one = %{ $series{$id} };
            my @bounds = sort { $a <=> $b } grep { $_ ne '+Inf' } keys %{ $one{buckets} };
            my $last = 0;
            for my $bound (@bounds, '+Inf') {
                push @wrong, "$id: no +Inf" and last unless defined $one{buckets}{$bound};
                push @wrong, "$id: le=$bound has less than the one before" if $one{buckets}{$bound} < $last;
                $last = $one{buckets}{$bound};
            }
            push @wrong, "$id: +Inf is $last, the count " . ($one{count} // 'none') if ($one{count} // -1) != $last;
            push @wrong, "$id: no sum" unless defined $one{sum};
            push @wrong, "$id: bounds are @bounds" if "@bounds" ne '0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5';
        }
    }
    return @wrong;
}

run_tests();

__DATA__

=== TEST 1: the page is OpenMetrics text: before anything was counted, and after; the counters are those of what happened
--- engine
kb = as({}, { store = "keybound", metrics = "metrics" })
shared = as({ token_cache_entries = 0 }, { store = "keybound", metrics = "metrics" })
idle_one = as({}, { metrics = "idle" })
--- run
my $idle = page('idle');
is($idle->{status}, 200, 'a page');
ok(eval { parse($idle->{body}); 1 }, 'with nothing on it') or diag($@, $idle->{body});
is(header($idle, 'Content-Type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8', 'its type');
my $issuer = as_start()->{issuer};
define(opaque => opaque(), bad => { text => 'bad-1' }, jwt => { as => 'any', cert => 'client' }, other => { for => 'client' });
passes({ cert => 'client', token => 'jwt' }, 'a JWT');
passes({ cert => 'client', token => 'opaque' }, 'an opaque token');
refuses({ cert => 'thief', token => 'opaque' }, '401 invalid_token certificate_mismatch', 'of a thief') for 1 .. 3;
refuses({}, '401 - no_token', 'no token') for 1 .. 2;
refuses({ cert => 'client', token => 'other' }, '401 invalid_token issuer_mismatch', 'another issuer');
refuses({ cert => 'client', token => 'bad' }, '401 invalid_token token_inactive', 'inactive');
passes({ cert => 'client', token => 'opaque', path => '/shared' }, 'from the store') for 1 .. 2;
my $got = page();
my $page = eval { parse($got->{body}) };
ok($page, 'it is OpenMetrics') or diag($@, $got->{body});
is(json($page->{families}), json({ keybound_requests => 'counter', keybound_introspection_cache => 'counter', keybound_binding_skipped => 'counter', keybound_revocations => 'counter', keybound_as_requests => 'counter',
    keybound_as_request_duration_seconds => 'histogram' }), 'families');
my $count = sub { return of($page, 'keybound_requests_total', @_) };
is($count->(), 11, 'all requests');
is($count->(decision => 'allow', reason => 'allowed', issuer => $issuer), 4, 'allowed');
is($count->(decision => 'deny'), 7, 'refused');
is($count->(decision => 'deny', reason => 'certificate_mismatch', issuer => $issuer), 3, 'of a thief');
is($count->(decision => 'deny', reason => 'no_token', issuer => '', cache => 'none'), 2, 'without token: no issuer');
is($count->(decision => 'deny', reason => 'issuer_mismatch', issuer => ''), 1, 'another issuer: none of ours');
is($count->(decision => 'deny', reason => 'token_inactive', issuer => $issuer, cache => 'miss'), 1, 'inactive');
# Which worker remembers is up to the system.
cmp_ok($count->(cache => 'miss', reason => 'allowed'), '>=', 4, 'misses');
is($count->(cache => 'miss') + $count->(cache => 'hit') + $count->(cache => 'none'), 11, 'each is one of the three');
is(scalar(grep { $_->{labels}{decision} eq 'allow' xor $_->{labels}{reason} eq 'allowed' } grep { $_->{name} eq 'keybound_requests_total' } values %{ $page->{samples} }), 0, 'decision and reason agree');
my $as = sub { return of($page, 'keybound_as_requests_total', issuer => $issuer, @_) };
is($as->(endpoint => 'metadata', outcome => 'ok'), scalar(asked('/.well-known/openid-configuration')) ? $as->(endpoint => 'metadata') : -1, 'metadata');
cmp_ok($as->(endpoint => 'jwks', outcome => 'ok'), '>=', 1, 'keys');
cmp_ok($as->(endpoint => 'introspection', outcome => 'ok'), '>=', 2, 'introspections');
cmp_ok(of($page, 'keybound_introspection_cache_total', result => 'hit'), '>=', 2, 'answered by the store');
is(of($page, 'keybound_introspection_cache_total', result => 'miss'), $as->(endpoint => 'introspection'), 'not answered by the store');
is(of($page, 'keybound_as_request_duration_seconds_count', endpoint => $_), $as->(endpoint => $_), "$_: times and requests") for qw(metadata jwks introspection);
is(join("\n", wrong_histograms($page)), '', 'histograms');
cmp_ok(of($page, 'keybound_as_request_duration_seconds_sum'), '>', 0, 'it took some time');
cmp_ok(of($page, 'keybound_as_request_duration_seconds_sum'), '<', 30, 'in seconds');
--- no_error_log
[error]
[alert]

=== TEST 2: the cache label: remembered requests are hits
--- engine
kb = as {}
none = as { token_cache_entries = 0 }
--- run
define(jwt => { as => 'any', cert => 'client' });
named_token('jwt');
my @seen = at_once(100, { cert => 'client', token => 'jwt', path => '/kb', keep => 1 }, { cert => 'thief', token => 'jwt', path => '/kb', keep => 1 });
is(json(\@seen), '[{"200":100},{"401":100}]', 'requests');
my $page = parse(page()->{body});
# Each worker verifies it once; whoever comes meanwhile does so, too. A thief is refused before that, where it is not known yet.
my $misses = of($page, 'keybound_requests_total', cache => 'miss', reason => 'allowed');
cmp_ok($misses, '<=', 20, "misses: $misses");
cmp_ok($misses, '>=', 1, 'a first one');
is(of($page, 'keybound_requests_total', cache => 'hit', reason => 'allowed'), 100 - $misses, 'the rest are hits');
is(of($page, 'keybound_requests_total', decision => 'allow'), 100, 'allowed');
is(of($page, 'keybound_requests_total', decision => 'deny', reason => 'certificate_mismatch'), 100, 'refused');
at_once(20, { cert => 'client', token => 'jwt', path => '/none', keep => 1 });
$page = parse(page()->{body});
is(of($page, 'keybound_requests_total', cache => 'miss', reason => 'allowed') - $misses, 20, 'without a cache none is a hit');
--- no_error_log
[error]
[alert]

=== TEST 3: the sum over two workers, whichever of them is asked; a reload loses nothing
--- engine
kb = as {}
--- run
define(jwt => { as => 'any', cert => 'client' });
named_token('jwt');
write_file("$RUN/access.log", '');
my @calls = ({ cert => 'client', token => 'jwt', path => '/kb' }, { cert => 'thief', token => 'jwt', path => '/kb' }, { path => '/kb' });
at_once(50, (@calls) x 2);
my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/access.log");
is(scalar keys %pids, 2, 'both workers');
my $expected = sub {
    my ($n, $name) = @_;
    # Several times: either worker answers.
    for (1 .. 6) {
        my $page = parse(call(plain => 1, path => '/metrics')->{body});
        is(of($page, 'keybound_requests_total'), 3 * $n, "$name: all") or return;
        is(of($page, 'keybound_requests_total', reason => $_), $n, "$name: $_") for qw(allowed certificate_mismatch no_token);
        is(join("\n", wrong_histograms($page)), '', "$name: histograms");
    }
};
pause(1.3);
$expected->(100, 'before');
my @old = keys %pids;
kill HUP => master();
for (1 .. 300) {
    last unless grep { kill 0 => $_ } @old;
    pause(0.02);
}
pause(1.3);
$expected->(100, 'after a reload');
at_once(25, (@calls) x 2);
pause(1.3);
$expected->(150, 'and on');
my $as = of(parse(page()->{body}), 'keybound_as_requests_total', endpoint => 'jwks');
is($as, of(parse(page()->{body}), 'keybound_as_request_duration_seconds_count', endpoint => 'jwks'), 'requests to the server');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: a reload under load: every request is counted once
--- engine
kb = as {}
--- run
define(jwt => { as => 'any', cert => 'client' });
named_token('jwt');
my @load = traffic(300, ({ cert => 'client', token => 'jwt', path => '/kb' }) x 4);
for (1 .. 3) {
    pause(0.4);
    kill HUP => master();
}
my @seen = landed(@load);
is(json(\@seen), '[' . join(',', ('{"200":300}') x 4) . ']', 'all pass');
pause(2);
is(of(parse(page()->{body}), 'keybound_requests_total'), 1200, 'all are counted');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 5: how requests to the server end: each outcome has its counter; one line in 10 seconds about each
--- engine
status = as { introspection_endpoint = "$PEER/status", client_auth = "client_secret_post", client_secret = "x", tls_client_auth_cert_id = cjson.null, client_certificates = cjson.null, introspection_cache_ttl_neg = 0 }
local function to(path, more)
    local config = { introspection_endpoint = path:find("^https") and path or "$PEER/" .. path, client_auth = "client_secret_post", client_secret = "x", tls_client_auth_cert_id = cjson.null,
        client_certificates = cjson.null, introspection_cache_ttl_neg = 0, timeout = 600, read_timeout = 600, jwks = options().jwks }
    for name, value in pairs(more or {}) do config[name] = value end
    return as(config)
end
malformed, too_large, timeout = to "malformed", to "large", to "hang"
connect, tls, resolve = to "https://localhost:GONE_PORT/x", to("$AS2/x"), to "https://as.example/x"
--- run
my $secret = 'a-token-that-must-not-be-logged';
peer_script({
    '/status' => { status => 500, headers => { 'Content-Type' => 'application/json' }, body => '{}' }, '/malformed' => { send => "HTTP/9 what\r\n\r\n" },
    '/large' => { body => 'x' x 300_000, headers => { 'Content-Type' => 'application/json' } }, '/hang' => { hang => JSON::PP::true },
});
for my $outcome (qw(status malformed too_large timeout connect tls resolve)) {
    my $since = log_mark();
    my @seen = at_once($outcome eq 'timeout' ? 3 : 25, { cert => 'client', authorization => "Bearer $secret-$outcome", path => "/$outcome", keep => 1 });
    is(join(',', keys %{ $seen[0] }), 503, "$outcome: 503");
    my @lines = log_since() =~ /^(.*request to the authorization server failed.*)$/mg;
    # An answer with a status is no failed request: the line of the refusal says it.
    cmp_ok(scalar @lines, '<=', $outcome eq 'status' ? 0 : 2, "$outcome: lines: " . @lines);
    cmp_ok(scalar @lines, '>=', $outcome eq 'status' ? 0 : 1, "$outcome: it is told");
    my $told = $outcome eq 'tls' ? 'certificate' : $outcome;
    like($lines[0], qr/\[error\].* endpoint=introspection, issuer=https:\S+, outcome=$told, detail=\S/, "$outcome: what the line says") if $outcome ne 'status';
    unlike(log_since(), qr/\Q$secret\E/, "$outcome: not the token");
}
my $page = parse(page()->{body});
for my $outcome (qw(status malformed too_large timeout connect tls resolve)) {
    my $n = of($page, 'keybound_as_requests_total', endpoint => 'introspection', outcome => $outcome);
    cmp_ok($n, '>=', 1, "$outcome: counted: $n");
}
is(of($page, 'keybound_as_requests_total', endpoint => 'introspection', outcome => 'ok'), 0, 'none is ok');
is(of($page, 'keybound_requests_total', decision => 'deny', reason => 'introspection_unavailable'), of($page, 'keybound_requests_total'), 'all are refused for it');
is(join("\n", wrong_histograms($page)), '', 'histograms');
my %buckets = map { $_->{labels}{le} => $_->{value} } grep { $_->{name} =~ /_bucket$/ && $_->{labels}{endpoint} eq 'introspection' } values %{ $page->{samples} };
cmp_ok($buckets{'1.0'} - $buckets{'0.5'}, '>=', 1, 'the one that hung took more than half a second');
--- timeout: 60
--- no_error_log
[alert]
exited on signal

=== TEST 6: the line of a refusal: the id of the request and the beginning of the token's hash; no line and no label holds a token
--- engine
kb = as { introspection_cache_ttl_neg = 0, upstream_headers_claims = { "client_id" }, upstream_headers_names = { "X-Client" } }
--- run
define(opaque => opaque(), jwt => { as => 'any', cert => 'client' }, forged => { for => 'client', key => 'rogue', claims => { iss => as_start()->{issuer} } },
    bad => { text => 'bad-token-of-nobody' }, odd => { text => '"quoted\\' }, label => { for => 'client', claims => { iss => "https://evil.test/\"}\n" } });
my @lines;
for (['thief', 'opaque', '401 invalid_token certificate_mismatch'], ['-', 'opaque', '401 invalid_token certificate_missing'], ['thief', 'jwt', '401 invalid_token certificate_mismatch'],
    ['client', 'forged', '401 invalid_token key_unknown'], ['client', 'bad', '401 invalid_token token_inactive'], ['client', 'label', '401 invalid_token issuer_mismatch'],
    ['client', 'odd', '400 invalid_request malformed_authorization'], ['client', 'junk', '401 invalid_token token_inactive']) {
    my ($cert, $token, $expected) = @$_;
    my $response = refuses({ cert => $cert, token => $token }, $expected, "$cert $token");
    my ($line) = log_since() =~ /^(.*keybound: refused.*)$/m;
    like($line, qr/\[warn\]/, "$cert $token: a warning");
    my ($prefix) = $line =~ /, token=([0-9a-f]{8}),/;
    is($prefix, substr(Digest::SHA::sha256_hex(named_token($token)), 0, 8), "$cert $token: the beginning of the hash");
    my ($id) = $line =~ /, request_id=([0-9a-f]{32})\b/;
    is($id, scalar header($response, 'X-Request-Id'), "$cert $token: the id of the request");
}
refuses({ cert => 'client' }, '401 - no_token', 'no token');
like(log_since(), qr/reason=no_token, status=401, token=-, request_id=[0-9a-f]{32}/, 'no token: none in the line');
passes({ cert => 'client', token => $_ }, "passes: $_") for qw(opaque jwt);
my $log = whole_log();
my $body = page()->{body};
ok(eval { parse($body); 1 }, 'the page is OpenMetrics') or diag($@);
for my $token (qw(opaque jwt forged bad label)) {
    my $text = named_token($token);
    # Of a JWT no part, of any token not even its first half.
    for my $part (grep { length > 12 } $text, substr($text, 0, length($text) / 2), split /\./, $text) {
        is(index($log, $part), -1, "$token: the log has it not");
        is(index($body, $part), -1, "$token: the page neither");
    }
}
unlike($body, qr/evil\.test/, 'an issuer of the token is no label');
unlike($body, qr/token="|bearer|[?]/i, 'nothing like it');
unlike($log, qr/@{[ thumbprint('client') ]}/, 'the thumbprint is not logged');
--- no_error_log
[error]
[alert]

=== TEST 7: an issuer with characters that are special in labels
--- engine
local odd = 'https://odd.test/"quote"\\back'
kb = engine({ issuer = odd, jwks = options().jwks }, { metrics = "metrics" })
--- run
define(odd => { for => 'client', claims => { iss => 'https://odd.test/"quote"\\back' } });
passes({ cert => 'client', token => 'odd' }, 'own certificate') for 1 .. 2;
my $page = parse(page()->{body});
is(of($page, 'keybound_requests_total', issuer => 'https://odd.test/\\"quote\\"\\\\back'), 2, 'counted, escaped');
--- no_error_log
[error]
[alert]

=== TEST 8: two engines in one zone are summed; an engine without a zone counts nowhere; a request that nginx refused is counted
--- engine
one = as {}
two = as {}
none = as({}, { store = "keybound" })
--- tls
error_page 495 496 = @refused;
ssl_verify_depth 2;
location @refused { access_by_lua_block { one:refuse_certificate() } }
--- run
define(jwt => { as => 'any', cert => 'client' }, expired => { for => 'expired' });
passes({ cert => 'client', token => 'jwt', path => "/$_" }, $_) for qw(one two none one two none);
my $page = parse(page()->{body});
is(of($page, 'keybound_requests_total', reason => 'allowed'), 4, 'of both');
refuses({ cert => 'expired', token => 'expired', path => '/one' }, '401 invalid_token certificate_refused', 'an expired certificate');
$page = parse(page()->{body});
is(of($page, 'keybound_requests_total', reason => 'certificate_refused', decision => 'deny'), 1, 'it is counted');
--- no_error_log
[error]
[alert]
