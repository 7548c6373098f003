# Grants for which the request brings the credentials: password, client credentials, refresh token; and the gateway's own token for the upstream. Each
# token is asked for over mutual TLS, and for many requests once.
use Keybound;
use Logins;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
worker_connections(1024);

# `engine` may use `grant(METHOD, OPTIONS)`: options for a grant alone; `of_self_signed(OPTIONS)`: by the other TLS method.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(engine => <<'EOL' . ($block->engine // ''));
OPTS = { store = "logins", metrics = "metrics" }
function grant(method, more)
    local config = { auth_methods = { method }, proof_of_possession_mtls = "off", redirect_uri = cjson.null, session_secret = cjson.null,
        session_bind_certificate = cjson.null }
    for name, value in pairs(more or {}) do
        config[name] = value
    end
    return config
end
function of_self_signed(config)
    config.client_id, config.client_auth, config.tls_client_auth_cert_id = "web-self-signed", "self_signed_tls_client_auth", "web-self-signed"
    config.client_certificates = { ["web-self-signed"] = { certificate = "$PKI/web-self-signed.crt", private_key = "$PKI/web-self-signed.key" } }
    return config
end
EOL
    $block->set_value(http_config => "lua_shared_dict metrics 1m;\n" . ($block->http_config // ''));
    $block->set_value(tls => <<'EOC' . ($block->tls // ''));
add_header X-Worker $pid always;
header_filter_by_lua_block {
    local one = _G[ngx.var.kb]
    if one and one.header_filter then
        one:header_filter()
    end
}
EOC
    $block->set_value(config => <<'EOC');
location = /metrics { content_by_lua_block { require("resty.keybound").metrics("metrics") } }
location = /load {
    content_by_lua_block {
        ngx.req.read_body()
        local config = options(require("cjson").decode(ngx.req.get_body_data()))
        local one, err = require("resty.keybound").new(config, { store = "logins" })
        ngx.print(one and "loaded" or err)
    }
}
EOC
});

sub basic { my ($user, $password) = @_; $password //= "$user-password"; known('credentials', $password); return 'Basic ' . MIME::Base64::encode_base64("$user:$password", '') }
sub forget { as_control('/log/clear'); log_mark() }
sub lives { as_control('/ttl', $_[0] ? { AccessToken => $_[0] } : {}) }
sub workers_of { my %pids = map { scalar header($_, 'X-Worker') => 1 } @_; return scalar keys %pids }
sub counted { my %count; $count{ $_->{status} // 'none' }++ for @_; return json(\%count) }
sub says { return join ' ', map { /Expires=Thu, 01 Jan 1970/ ? 'removed' : 'set' } header($_[0], 'Set-Cookie') }
sub pause { select undef, undef, undef, $_[0] }
sub loads { return call(plain => 1, method => 'POST', path => '/load', data => json($_[0]))->{body} }
sub form { return (method => 'POST', data => $_[0], headers => ['Content-Type: application/x-www-form-urlencoded', @_[1 .. $#_]]) }

run_tests();

__DATA__

=== TEST 1: rfc6749_4_3: a user's password for a token, over mutual TLS by both methods; from the header, or from a form, which still reaches the upstream
--- engine
kb = logins(grant("password"), OPTS)
selfsigned = logins(of_self_signed(grant("password")), OPTS)
body = logins(grant("password", { password_param_type = { "body" } }), OPTS)
both = logins(grant("password", { password_param_type = { "header", "body" } }), OPTS)
hide = logins(grant("password", { hide_credentials = true }), OPTS)
--- run
my %client = (kb => 'web', selfsigned => 'web-self-signed');
for my $name (sort keys %client) {
    forget();
    my $response = visit(path => "/at/$name", authorization => basic('alice'));
    is(outcome($response), '200', "$name: alice");
    is(seen($response)->{sub}, 'alice', "$name: is alice");
    is(claims(bearer($response))->{cnf}{'x5t#S256'}, thumbprint($client{$name}), "$name: the upstream gets the token, which is bound to the gateway, in place of the password");
    is(shown('/token'), "password client_id=$client{$name} certificate=$client{$name} port=mtls 200", "$name: seen by the server");
    is(join('|', header($response, 'Set-Cookie'), header($response, 'Refresh-Token')), '', "$name: the client gets nothing");
}
is(seen(visit(path => '/at/hide', authorization => basic('alice')))->{authorization}, undef, 'hide_credentials: neither reaches the upstream');
for my $name (qw(body both)) {
    log_mark();
    my $response = visit(path => "/at/$name", form('a=1&username=alice&password=alice-password'));
    is(outcome($response), '200', "$name: a form");
    is(seen($response)->{sub}, 'alice', "$name: whose it is");
    is(seen($response)->{body}, 'a=1&username=alice&password=alice-password', "$name: reaches the upstream");
    log_mark();
    is(outcome(visit(path => "/at/$name", authorization => basic('alice'))), $name eq 'both' ? '200' : '401 | 401 no_token', "$name: the header");
}
# What is not where it is looked for.
for my $case ([ 'a form for an engine that looks into the header' => '/at/kb', '401 no_token', form('username=alice&password=alice-password') ],
    [ 'JSON' => '/at/body', '401 no_token', method => 'POST', data => '{"username":"alice"}', headers => ['Content-Type: application/json'] ],
    [ 'the query' => '/at/body?username=alice&password=alice-password', '401 no_token' ],
    [ 'nothing' => '/at/kb', '401 no_token' ],
    [ 'no Base64' => '/at/kb', '400 credentials_malformed', authorization => 'Basic ***' ],
    [ 'no colon' => '/at/kb', '400 credentials_malformed', authorization => 'Basic YWxpY2U=' ],
    [ 'a NUL' => '/at/kb', '400 credentials_malformed', authorization => 'Basic ' . MIME::Base64::encode_base64("alice\0:alice-password", '') ],
    [ 'a password twice' => '/at/body', '400 credentials_malformed', form('username=alice&password=a&password=alice-password') ],
    [ 'a name alone: a form of the application' => '/at/body', '401 no_token', form('username=alice') ],
    [ 'too long' => '/at/kb', '400 credentials_malformed', authorization => 'Basic ' . MIME::Base64::encode_base64('alice:' . 'x' x 4000, '') ]) {
    my ($name, $path, $expected, @call) = @$case;
    forget();
    is(outcome(visit(path => $path, @call)), (split ' ', $expected)[0] . " | $expected", $name);
    is(scalar(asked('/token')), 0, "$name: nobody is asked");
}
--- no_error_log
[error]
[alert]

=== TEST 2: one token request for many requests, over two workers; two users at once are never mixed up
--- engine
kb = logins(grant("password"), OPTS)
alone = logins(grant("password"), {})
--- run
my %header = map { $_ => basic($_) } qw(alice bob);
# The first one first, then all: what one worker fetched the other has from the store.
forget();
is(visit(authorization => $header{alice})->{status}, 200, 'the first');
my @responses = crowd(20, authorization => $header{alice});
is(counted(@responses), '{"200":20}', 'all pass');
is(workers_of(@responses), 2, 'over both workers');
is(granted_by_as('password'), 1, 'by one token request');
my %tokens = map { bearer($_) => 1 } @responses;
is(scalar keys %tokens, 1, 'and one token');

# Without a store each worker remembers its own: one connection is one worker.
forget();
my @alone = calls_on_one_connection(map { { cert => 'client', authorization => $header{$_}, path => '/at/alone' } } (qw(alice bob)) x 10);
is(counted(@alone), '{"200":20}', 'without a store: all pass');
is(granted_by_as('password'), 2, 'by one token request for each user');
is(scalar(grep { seen($alone[$_])->{sub} ne ($_ % 2 ? 'bob' : 'alice') } 0 .. 19), 0, 'and each has the own one');

# Others for whom nobody has a token yet, all at the same moment.
lives(3);
pause(1);
my @users = map { ($_) x 10 } qw(alice bob);
as_control('/hang', { ms => 500, path => '/token' });
forget();
my @started = map { [ $_, Keybound::start_command('', Keybound::_curl_words(path => '/', authorization => basic($_, "wrong-$$")), '-i') ] } @users;
my %refused = (alice => 0, bob => 0);
for (@started) { $refused{ $_->[0] }++ if Keybound::response((Keybound::finish_command($_->[1]))[1])->{status} == 401 }
as_control('/hang', { ms => 0 });
is(json(\%refused), '{"alice":10,"bob":10}', 'wrong passwords at the same moment: all refused');
cmp_ok(granted_by_as('password'), '<=', 4, 'by a token request for each worker and user: ' . granted_by_as('password'));

# 200 requests by turns on four connections, with tokens that are fetched anew on the way.
forget();
my ($wrong, $passed, %seen) = (0, 0);
for my $connection (1 .. 4) {
    for my $response (calls_on_one_connection(map { { cert => 'client', authorization => $header{ $_ % 2 ? 'alice' : 'bob' }, path => '/' . ($_ % 2 ? 'alice' : 'bob') } } 1 .. 50)) {
        my $seen = seen($response);
        $passed++;
        $seen{ bearer($response) } = 1;
        $wrong++ unless $seen->{target} eq "/$seen->{sub}" && claims(bearer($response))->{sub} eq $seen->{sub};
    }
}
is("$passed passed, $wrong mixed up", '200 passed, 0 mixed up', '200 requests of alice and bob by turns');
lives(0);
my @both = map { my $user = $_; map { [ $user, $_ ] } crowd(20, authorization => $header{$user}) } qw(alice bob alice);
is(scalar(grep { (seen($_->[1])->{sub} // '') ne $_->[0] } @both), 0, 'nor at once');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 3: rfc6749_5_2: a wrong password is refused, and not asked about again for five seconds; the right one passes meanwhile
--- engine
kb = logins(grant("password"), OPTS)
--- run
forget();
my $begun = Time::HiRes::time();
is(outcome(visit(authorization => basic('alice', 'wrong-password'))), '401 | 401 credentials_refused', 'a wrong password');
like(log_since(), qr/reason=credentials_refused.*detail=password: invalid_grant/, 'the log says what the server said');
is(granted_by_as('password'), 1, 'the server was asked');
is(counted(crowd(20, authorization => basic('alice', 'wrong-password'))), '{"401":20}', 'and again');
cmp_ok(granted_by_as('password'), '<=', 2, 'each worker asks once at most');
log_mark();
is(outcome(visit(authorization => basic('alice'))), '200', 'the right one');
log_mark();
is(outcome(visit(authorization => basic('alice', 'wrong-password-2'))), '401 | 401 credentials_refused', 'another wrong one');
log_mark();
is(outcome(visit(authorization => basic('alice-', 'password'))), '401 | 401 credentials_refused', 'a name that begins like it');
until_s($begun + 7);
forget();
is(outcome(visit(authorization => basic('alice', 'wrong-password'))), '401 | 401 credentials_refused', 'later');
is(granted_by_as('password'), 1, 'the server is asked again');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 4: rfc6749_4_4: a client's credentials for its token, from the header or a form; over the gateway's certificate, and not as the gateway
--- engine
local post = { token_post_args_names = { "resource" }, token_post_args_values = { "https://api.test" } }
kb = logins(grant("client_credentials", post), OPTS)
body = logins(grant("client_credentials", { token_post_args_names = { "resource" }, token_post_args_values = { "https://api.test" }, client_credentials_param_type = { "body" } }), OPTS)
selfsigned = logins(of_self_signed(grant("client_credentials", post)), OPTS)
--- run
my %certificate = (kb => 'web', selfsigned => 'web-self-signed', body => 'web');
for my $name (sort keys %certificate) {
    my $client = $name eq 'body' ? 'unbound' : 'any';
    my @call = $name eq 'body' ? form("client_id=$client&client_secret=$client-secret") : (authorization => basic($client, "$client-secret"));
    forget();
    my $response = visit(path => "/at/$name", @call);
    is(outcome($response), '200', "$name: a client");
    my $claims = claims(bearer($response));
    is($claims->{client_id}, $client, "$name: its token");
    is($claims->{scope}, 'read', "$name: without openid");
    is($claims->{cnf}{'x5t#S256'}, $name eq 'body' ? undef : thumbprint($certificate{$name}), "$name: bound as the server does it, to the certificate of the gateway's connection");
    is(shown('/token'), "client_credentials client_id=$client certificate=$certificate{$name} port=mtls 200", "$name: seen by the server");
    is(outcome(visit(path => "/at/$name", @call)), '200', "$name: again");
    is(granted_by_as('client_credentials'), 1, "$name: by one token request");
    log_mark();
    is(outcome(visit(path => "/at/$name", $name eq 'body' ? form("client_id=$client&client_secret=wrong") : (authorization => basic('any', 'wrong')))), '401 | 401 credentials_refused', "$name: a wrong secret");
}
# Whoever says to be the gateway would be believed for the gateway's certificate.
for my $case ([ kb => 'web' ], [ selfsigned => 'web-self-signed' ]) {
    my ($name, $client) = @$case;
    forget();
    is(outcome(visit(path => "/at/$name", authorization => basic($client, 'anything'))), '401 | 401 credentials_refused', "$name: as the gateway");
    is(scalar(asked('/token')), 0, "$name: as the gateway: nobody is asked");
}
--- no_error_log
[error]
[alert]

=== TEST 5: with proof of possession a grant does not load, unless the operator says that its requests go unchecked: then each is logged and counted
--- engine
kb = logins(grant("password", { proof_of_possession_mtls = "strict", proof_of_possession_auth_methods_validation = false }), OPTS)
optional = logins(grant("password", { proof_of_possession_mtls = "optional", proof_of_possession_auth_methods_validation = false }), OPTS)
off = logins(grant("password"), OPTS)
both = logins(grant("password", { auth_methods = { "password", "bearer" }, proof_of_possession_mtls = "strict", proof_of_possession_auth_methods_validation = false }), OPTS)
--- run
my %client = (issuer => as_start()->{issuer}, client_id => 'web', client_auth => 'tls_client_auth', tls_client_auth_cert_id => 'web', jwks => undef,
    client_certificates => { web => { certificate => "$PKI/web.crt", private_key => "$PKI/web.key" } });
for my $method (qw(password client_credentials refresh_token)) {
    for my $mode (qw(strict optional)) {
        my %config = (%client, auth_methods => [$method], proof_of_possession_mtls => $mode);
        like(loads(\%config), qr/^keybound\.new: auth_methods: $method is not compatible with proof of possession: its token is bound to the gateway/, "$method, $mode: refused at load");
        is(loads({ %config, proof_of_possession_auth_methods_validation => JSON::PP::false }), 'loaded', "$method, $mode: unless it is said");
    }
    is(loads({ %client, auth_methods => [$method], proof_of_possession_mtls => 'off' }), 'loaded', "$method: without proof of possession");
}
pause(1.2);
my $counted = metric('keybound_binding_skipped_total');
my $n = 0;
for my $name (qw(kb optional off)) {
    for my $cert ('client', 'thief', '-') {
        log_mark();
        my $response = visit(path => "/at/$name", authorization => basic('alice'), cert => $cert);
        is(outcome($response), '200', "$name, certificate $cert: passes");
        my @notes = log_since() =~ /\[notice\].*keybound: note, .*?detail=([^,]*, [^,]*)/g;
        is(join('|', @notes), $name eq 'off' ? '' : 'proof of possession was not checked, method=password', "$name, certificate $cert: the log");
        $n += $name ne 'off';
    }
}
pause(1.2);
is(metric('keybound_binding_skipped_total\{method="password"'), $counted + $n, 'counted');
is(metric('keybound_binding_skipped_total'), $counted + $n, 'for this method only');
# It is for this method alone.
define(own => { as => 'any', cert => 'client' });
known('a token', named_token('own'));
log_mark();
is(outcome(visit(path => '/at/both', token => 'own')), '200', 'a bearer token with its certificate');
unlike(log_since(), qr/note,/, 'is checked, and needs no note');
log_mark();
is(outcome(visit(path => '/at/both', token => 'own', cert => 'thief')), '401 | 401 certificate_mismatch', 'and with another one is refused');
--- no_error_log
[error]
[alert]

=== TEST 6: a grant is kept in a session: the cookie in place of the password, with the certificate of the beginning; no refresh token is of two sessions
--- engine
kb = logins(grant("password", { auth_methods = { "session", "password" }, session_secret = SECRET, proof_of_possession_mtls = "strict",
    proof_of_possession_auth_methods_validation = false, session_bind_certificate = true, logout_uri_suffix = "/logout" }), OPTS)
off = logins(grant("password", { auth_methods = { "session", "password" }, session_secret = SECRET, session_cookie_name = "__Host-off", disable_session = { "password" } }), OPTS)
--- run
lives(9);
forget();
my $response = visit(jar => 'a', authorization => basic('alice'));
is(outcome($response) . ' ' . says($response), '200 set', 'the password');
my $token = bearer($response);
my $issued = claims($token)->{iat};
$response = visit(jar => 'a');
is(outcome($response), '200', 'the cookie alone');
is(bearer($response), $token, 'for the same token');
for my $cert ('thief', '-') {
    log_mark();
    is(outcome(visit(stolen => 'a', cert => $cert)), '401 | 401 session_certificate_' . ($cert eq '-' ? 'missing' : 'mismatch'), "the cookie with certificate $cert");
}
log_mark();
$response = visit(jar => 'b', authorization => basic('alice'));
is(outcome($response) . ' ' . says($response), '200 set', 'the same user at another place');
is(granted_by_as('password'), 1, 'one token request for both');
isnt(cookie('a'), cookie('b'), 'and two sessions');
log_mark();
$response = visit(path => '/at/off', authorization => basic('alice'));
is(outcome($response) . ' ' . says($response), '200 ', 'disable_session: none');
# Others that begin at the same moment, with a token that is fetched for all of them.
as_control('/hang', { ms => 500, path => '/token' });
my @begun = crowd(6, authorization => basic('bob'));
as_control('/hang', { ms => 0 });
is(join(' ', map { says($_) } @begun), 'set set set set set set', 'six sessions at once');
jar_of("bob $_", '__Host-session' => (header($begun[$_], 'Set-Cookie'))[0] =~ /=([^;]+)/) for 0 .. 5;
# A refresh token is of one session; what came of it must not come to the server twice.
until_s(claims(bearer($begun[0]))->{iat} + 6.2);
forget();
my %refreshed = (a => [], bob => []);
for my $jar (qw(a b), map { "bob $_" } 0 .. 5) {
    log_mark();
    my $response = visit(jar => $jar);
    is(outcome($response), '200', "$jar: when it is time to refresh");
    my ($bob) = $jar =~ /^bob (.)/;
    push @{ $refreshed{ defined $bob ? 'bob' : 'a' } }, $jar if bearer($response) ne (defined $bob ? bearer($begun[$bob]) : $token);
}
is(shown('/token'), join("\n", ('refresh_token client_id=web certificate=web port=mtls 200') x @{[ map { @$_ } values %refreshed ]}), 'none is sent twice');
is(join(' ', @{ $refreshed{a} }), 'a', 'the first of the sessions is refreshed');
cmp_ok(scalar @{ $refreshed{bob} }, '<=', 2, 'of those that began at once one for each worker at most');
until_s(claims(bearer($begun[0]))->{iat} + 9.2);
log_mark();
is(outcome(visit(jar => 'b')), '401 | 401 session_expired', 'the other ends with its token');
log_mark();
is(outcome(visit(jar => 'b', authorization => basic('alice'))), '200', 'and goes on by the password');
log_mark();
is(outcome(visit(jar => 'a')), '200', 'the first goes on by its cookie');
lives(0);
log_mark();
is(outcome(visit(jar => 'a', method => 'POST', path => '/logout')), '200 | 200 logged_out', 'a logout');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 7: rfc6749_6: the client's own refresh token, in a header: the access token for the upstream, the next refresh token for the client
--- engine
kb = logins(grant("refresh_token"), OPTS)
selfsigned = logins(of_self_signed(grant("refresh_token")), OPTS)
session = logins(grant("refresh_token", { auth_methods = { "session", "refresh_token" }, session_secret = SECRET }), OPTS)
--- run
local *refresh_token = sub {
    my ($client, $user) = @_;
    my $answer = as_request('/token', { grant_type => 'password', username => $user, password => "$user-password", scope => 'openid read' }, client => $client, cert => $client);
    known('a refresh token', $answer->{refresh_token});
    return $answer->{refresh_token} // die json($answer);
};
my %client = (kb => 'web', selfsigned => 'web-self-signed', session => 'web');
for my $name (sort keys %client) {
    my $path = "/at/$name";
    my $first = refresh_token($client{$name}, 'alice');
    forget();
    my $response = visit(path => $path, headers => ["Refresh-Token: $first"]);
    is(outcome($response), '200', "$name: a refresh token");
    is(seen($response)->{sub}, 'alice', "$name: whose it is");
    is(says($response), '', "$name: no session: the client keeps it");
    my ($second, @more) = header($response, 'Refresh-Token');
    known('a refresh token', $second);
    like($second // '', qr/^[\w-]{20,}$/, "$name: the client gets the next one");
    isnt($second, $first, "$name: which is another");
    is(shown('/token'), "refresh_token client_id=$client{$name} certificate=$client{$name} port=mtls 200", "$name: seen by the server");
    # Others that were under way with the first one.
    my @responses = crowd(10, path => $path, headers => ["Refresh-Token: $first"]);
    is(counted(@responses), '{"200":10}', "$name: the first one at the same time");
    is(join('', map { header($_, 'Refresh-Token') } @responses), $second x 10, "$name: gives the same");
    is(granted_by_as('refresh_token'), 1, "$name: and is sent once");
    log_mark();
    $response = visit(path => $path, headers => ["Refresh-Token: $second"]);
    is(outcome($response), '200', "$name: the second one");
    isnt(scalar header($response, 'Refresh-Token'), $second, "$name: gives a third");
    known('a refresh token', header($response, 'Refresh-Token'));
    for my $case ([ 'nobody knows it', 'x' x 43, '401 credentials_refused' ], [ 'of another user, twice', refresh_token($client{$name}, 'bob') . "\nRefresh-Token: x", '400 credentials_malformed' ],
        [ 'with a space', 'a b', '400 credentials_malformed' ]) {
        my ($what, $token, $expected) = @$case;
        log_mark();
        is(outcome(visit(path => $path, headers => [ map { /^Refresh-Token: / ? $_ : "Refresh-Token: $_" } split /\n/, $token ])), (split ' ', $expected)[0] . " | $expected", "$name: $what");
    }
}
# Two users by turns.
my %token = map { $_ => refresh_token('web', $_) } qw(alice bob);
my $wrong = 0;
for my $user (map { qw(alice bob) } 1 .. 5) {
    my $response = visit(headers => ["Refresh-Token: $token{$user}"]);
    $wrong++ unless (seen($response)->{sub} // '') eq $user;
    ($token{$user}) = header($response, 'Refresh-Token');
    known('a refresh token', $token{$user});
}
is($wrong, 0, 'two users by turns, ten refresh tokens');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 8: upstream_client_credentials: the upstream gets a token of the gateway, bound to the gateway's certificate; one token request for many
--- engine
local own = { upstream_client_credentials = true, upstream_client_credentials_args_names = { "resource", "scope" }, upstream_client_credentials_args_values = { "https://api.test", "write" } }
local function with(more)
    for name, value in pairs(own) do
        more[name] = value
    end
    return more
end
kb = logins(with(grant("bearer", { proof_of_possession_mtls = "strict", scopes = cjson.null })), OPTS)
selfsigned = logins(of_self_signed(with(grant("bearer", { proof_of_possession_mtls = "strict", scopes = cjson.null }))), OPTS)
at("login", with { session_cookie_name = "__Host-login" }, OPTS)
fresh = logins(with(grant("bearer", { proof_of_possession_mtls = "strict", scopes = cjson.null })), { store = "other" })
--- http_config
lua_shared_dict other 1m;
--- run
define(own => { as => 'any', cert => 'client' });
known('a token', named_token('own'));
my %client = (kb => 'web', selfsigned => 'web-self-signed');
for my $name (sort keys %client) {
    forget();
    my $response = visit(path => "/at/$name", token => 'own');
    is(outcome($response), '200', "$name: passes");
    my $claims = claims(bearer($response));
    is(join(' ', @$claims{qw(client_id scope)}, $claims->{cnf}{'x5t#S256'} eq thumbprint($client{$name}) ? 'bound' : 'not bound'), "$client{$name} write bound", "$name: the upstream gets the gateway's token");
    is(seen($response)->{sub}, claims(named_token('own'))->{sub}, "$name: and the claims are those of the client's");
    my @responses = crowd(20, path => "/at/$name", token => 'own');
    is(counted(@responses), '{"200":20}', "$name: many");
    is(workers_of(@responses), 2, "$name: over both workers");
    is(scalar(grep { (bearer($_) // '') ne bearer($response) } @responses), 0, "$name: with the same one");
    is(shown('/token'), "client_credentials client_id=$client{$name} certificate=$client{$name} port=mtls 200", "$name: by one token request");
    log_mark();
    is(outcome(visit(path => "/at/$name", token => 'own', cert => 'thief')), '401 | 401 certificate_mismatch', "$name: not for a thief");
}
my $got = sees('a login', $FLOW, jar => 'a', user => 'alice', path => '/at/login');
is(join(' ', claims(bearer($got))->{client_id}, claims(bearer($got))->{scope}), 'web write', 'a session: the upstream gets the token of the gateway, too');
is(seen($got)->{sub}, 'alice', 'a session: with the claims of the user');
# Nothing else in its place when there is none.
as_control('/fail', { status => 503, path => '/token' });
for (1, 2) {
    log_mark();
    my $response = visit(path => '/at/fresh', token => 'own');
    is(outcome($response), '503 | 503 server_unavailable', 'the server is down: 503');
}
log_mark();
is(outcome(visit(path => '/at/kb', token => 'own')), '200', 'where the token is known it goes on');
as_control('/fail', { status => 0 });
pause(2.1);
log_mark();
is(outcome(visit(path => '/at/fresh', token => 'own')), '200', 'it is back');
--- timeout: 60
--- no_error_log
[error]
[alert]

=== TEST 9: the authorization server is down: 503 for credentials that nobody knows yet, not 401; those that are known go on; it recovers
--- engine
kb = logins(grant("password"), OPTS)
--- run
is(visit(authorization => basic('alice'))->{status}, 200, 'alice is known');
as_control('/fail', { status => 503, path => '/token' });
forget();
my $response = visit(authorization => basic('bob'));
is(outcome($response), '503 | 503 server_unavailable', 'bob: 503');
is(join('', header($response, 'WWW-Authenticate')), '', 'bob: no challenge');
log_mark();
$response = visit(authorization => basic('bob'), page => 1);
like($response->{body}, qr/<h1>Not available now/, 'bob: a page for a person');
log_mark();
is(outcome(visit(authorization => basic('alice'))), '200', 'alice goes on');
as_control('/fail', { status => 0 });
pause(2.1);
log_mark();
is(outcome(visit(authorization => basic('bob'))), '200', 'bob, when it is back');
--- timeout: 60
--- no_error_log
[error]
[alert]
