# Logins and sessions in Kong: what t/140 to t/146 have for OpenResty works here, too, with entities of Kong: the gateway's certificate, consumers,
# references to vaults, errors at the field.
use Kong;
use Logins;
use Test::Nginx::Socket 'no_plan';

our ($true, $false) = (JSON::PP::true, JSON::PP::false);
our $ID = '5c5f0b8e-6d0a-4b44-8c35-0b4c0e3c1a01';
our $SELF_SIGNED = '5c5f0b8e-6d0a-4b44-8c35-0b4c0e3c1a02';

sub entity { my ($id, $name) = @_; return { id => $id, cert => read_file("$PKI/$name.crt"), key => read_file("$PKI/$name.key") } }
our @CERTIFICATES = (entity($ID, 'web'), entity($SELF_SIGNED, 'web-self-signed'));

# An instance that logs users in
sub logins {
    my (%more) = @_;
    return keybound(issuer => '$AS', jwks => undef, auth_methods => [qw(session authorization_code)], client_id => ['web'], client_auth => ['tls_client_auth'],
        tls_client_auth_cert_id => $ID, ssl_trusted_certificate => '$PKI/ca.crt', session_secret => 'the-secret-of-sessions-0123456789', session_bind_certificate => $true,
        redirect_uri => ['https://api.test/callback'], scopes => [qw(openid read)], shared_dict => 'keybound', %more);
}
our %REDIS = (shared_dict => undef, redis => { host => '127.0.0.1', port => '$REDIS', connect_timeout => 1000, timeout => 1000 },
    store_secret => 'a secret of all gateways, of 32 characters or more');
# A grant alone
sub grant { return logins(proof_of_possession_mtls => 'off', redirect_uri => undef, session_secret => undef, session_bind_certificate => undef, @_) }

# Each instance NAME is behind /NAME/, with its callback; `all` is global.
sub instances {
    my (%of) = @_;
    my $all = delete $of{all};
    return { certificates => \@CERTIFICATES, $all ? (plugins => [$all]) : (), routes(map { $_ => [ $of{$_} ] } keys %of) };
}
sub registered { my ($client, @names) = @_; as_control('/redirect', { client_id => $client, redirect_uris => [ map { "https://api.test$_/callback" } '', map { "/$_" } @names ] }) }

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(listener => 'optional_no_ca') unless defined $block->listener;
    $block->set_value(upstream => <<'EOC');
location / {
    client_body_buffer_size 64k;
    content_by_lua_block {
        ngx.req.read_body()
        local headers = ngx.req.get_headers()
        ngx.header["Set-Cookie"] = { "upstream=1; Path=/", "more=2; Path=/" }
        ngx.print(require("cjson").encode { passed = "kong", method = ngx.req.get_method(), target = ngx.var.request_uri, body = ngx.req.get_body_data(),
            authorization = headers.authorization, cookie = headers.cookie, consumer = headers["x-consumer-username"], credential = headers["x-credential-identifier"],
            refresh_token = headers["refresh-token"], anonymous = headers["x-anonymous-consumer"], sub = headers["x-sub"] })
    }
}
EOC
    # Numbers of a configuration are no strings.
    $block->set_value(kong => Keybound::_replace(json($block->kong)) =~ s/"port":"(\d+)"/"port":$1/gr) if ref $block->kong;
});

# logs_in(NAME, JAR, %how): a session; its access token
sub logs_in {
    my ($name, $jar, %how) = @_;
    my $got = sees($name, $FLOW, jar => $jar, user => 'alice', %how);
    known('a token', bearer($got));
    return bearer($got);
}
sub basic { my ($user, $password) = @_; $password //= "$user-password"; known('credentials', $password); return 'Basic ' . MIME::Base64::encode_base64("$user:$password", '') }
sub cookies_set { return join ' ', sort map { /^([^=]+)/ } header($_[0], 'Set-Cookie') }
sub said { my ($errors) = kong_errors({ certificates => \@CERTIFICATES, plugins => [ $_[0] ] }); return $errors ? json($errors->{plugins}[0] // $errors) : 'accepted' }

run_tests();

__DATA__

=== TEST 1: a login with a Certificate entity, by both TLS methods; the session and whose it is; in a cookie, in a shared dictionary, in Redis
--- kong eval
my $self_signed = { client_id => ['web-self-signed'], client_auth => ['self_signed_tls_client_auth'], tls_client_auth_cert_id => $main::SELF_SIGNED };
my %more = (upstream_headers_claims => ['sub'], upstream_headers_names => ['X-Sub'], consumer_claim => ['sub'], logout_uri_suffix => '/logout');
+{ consumers => [{ username => 'alice' }], %{ main::instances(
    all => main::logins(%more),
    selfsigned => main::logins(%more, %$self_signed, redirect_uri => ['https://api.test/selfsigned/callback'], session_cookie_name => '__Host-selfsigned'),
    dict => main::logins(%more, session_storage => 'store', redirect_uri => ['https://api.test/dict/callback'], session_cookie_name => '__Host-dict'),
    redis => main::logins(%more, %main::REDIS, session_storage => 'store', redirect_uri => ['https://api.test/redis/callback'], session_cookie_name => '__Host-redis')) } }
--- run
registered('web', qw(dict redis));
registered('web-self-signed', qw(selfsigned));
my %path = ('' => 'web', '/selfsigned' => 'web-self-signed', '/dict' => 'web', '/redis' => 'web');
for my $path (sort keys %path) {
    as_control('/log/clear');
    my $jar = "a$path" =~ tr{/}{-}r;
    my $token = logs_in("$path: a login", $jar, path => "$path/hello?x=1");
    is(shown('/token'), "authorization_code client_id=$path{$path} certificate=$path{$path} port=mtls 200", "$path: seen by the server");
    log_mark();
    my $response = visit(jar => $jar, path => "$path/x");
    is(outcome($response), '200', "$path: the session");
    my $seen = seen($response);
    is(join(' ', @$seen{qw(sub consumer)}), 'alice alice', "$path: header and consumer by claims of the session's token");
    is($seen->{authorization}, "Bearer $token", "$path: the token for the upstream");
    is($seen->{cookie}, 'upstream=1; more=2', "$path: of the cookies its own");
    is(cookies_set($response), 'more upstream', "$path: and no other is set without need");
    for my $h2 (0, 1) {
        log_mark();
        is(outcome(visit(stolen => $jar, path => "$path/x", cert => '-', h2 => $h2)), '401 | 401 session_certificate_missing', "$path, h2=$h2: without certificate");
        log_mark();
        is(outcome(visit(stolen => $jar, path => "$path/x", cert => 'thief', h2 => $h2)), '401 | 401 session_certificate_mismatch', "$path, h2=$h2: with another");
        log_mark();
        is(outcome(visit(jar => $jar, path => "$path/x", h2 => $h2)), '200', "$path, h2=$h2: with its own");
    }
    log_mark();
    is(outcome(visit(path => "$path/x")), '401 | 401 no_token', "$path: a program is not sent to log in");
}
--- timeout: 60
--- no_error_log
[alert]
[error]

=== TEST 2: nobody whom the plugin's consumers do not know; who is sent to log in is not anonymous
--- kong eval
my $instances = main::instances(all => main::logins(consumer_claim => ['sub']), guest => main::logins(anonymous => 'guest', redirect_uri => ['https://api.test/guest/callback'], session_cookie_name => '__Host-guest'));
+{ consumers => [{ username => 'bob' }, { username => 'guest' }], %$instances }
--- run
registered('web', qw(guest));
my $got = sees('alice is no consumer', '302 login_started, 302 login_completed, 403 consumer_not_found', jar => 'a', user => 'alice');
like(cookie('a'), qr/^1\./, 'she is logged in, nevertheless');
$got = sees('bob is one', $FLOW, jar => 'b', user => 'bob');
is(seen($got)->{consumer}, 'bob', 'and the upstream knows');
# A program without anything is anonymous, a navigation logs in.
log_mark();
my $response = visit(path => '/guest/x');
is(join(' ', outcome($response), seen($response)->{anonymous}, seen($response)->{consumer}), '200 true guest', 'a program is anonymous');
$got = sees('a navigation', $FLOW, jar => 'c', user => 'alice', path => '/guest/x');
is(seen($got)->{anonymous}, undef, 'which is somebody then');
log_mark();
is(outcome(visit(stolen => 'c', path => '/guest/x', cert => 'thief')), '401 | 401 session_certificate_mismatch', 'a thief is nobody, not even anonymous');
--- timeout: 60
--- no_error_log
[alert]
[error]

=== TEST 3: refresh and logout: by the entity's certificate, once over all that share a store; what was logged out is over for all copies
--- kong eval
my %more = (logout_uri_suffix => '/logout', logout_redirect_uri => ['https://api.test/logged-out'], session_storage => 'store');
main::instances(dict => main::logins(%more, redirect_uri => ['https://api.test/dict/callback'], session_cookie_name => '__Host-dict'),
    redis => main::logins(%more, %main::REDIS, redirect_uri => ['https://api.test/redis/callback'], session_cookie_name => '__Host-redis'))
--- run
registered('web', qw(dict redis));
as_control('/ttl', { AccessToken => 9 });
my (%token, $issued);
for my $name (qw(dict redis)) {
    $token{$name} = logs_in("$name: a login", $name, path => "/$name/x");
    $issued = claims($token{$name})->{iat};
}
until_s($issued + 6.2);
for my $name (qw(dict redis)) {
    as_control('/log/clear');
    log_mark();
    my @responses = crowd(10, stolen => $name, path => "/$name/x");
    is(scalar(grep { $_->{status} == 200 } @responses), 10, "$name: all pass");
    is(shown('/token'), 'refresh_token client_id=web certificate=web port=mtls 200', "$name: by one refresh");
    my $response = visit(jar => $name, path => "/$name/x");
    isnt(bearer($response), $token{$name}, "$name: another token");
}
as_control('/ttl', {});
for my $name (qw(dict redis)) {
    stolen($name, 'copy');
    as_control('/log/clear');
    log_mark();
    my $response = visit(jar => $name, method => 'POST', path => "/$name/logout");
    is(outcome($response), '200 | 200 logged_out', "$name: logged out");
    is(json($response->{body})->{message}, 'Logged out', "$name: as a program is told");
    is(join("\n", grep { /^refresh/ } split /\n/, shown('/token/revocation')), 'refresh_token client_id=web certificate=web port=mtls 200', "$name: revoked at the server");
    log_mark();
    is(outcome(visit(jar => 'copy', path => "/$name/x")), '401 | 401 session_expired', "$name: a copy of the cookie");
}
my $got = logs_in('a browser', 'a', path => '/dict/x');
log_mark();
$got = browse(jar => 'a', cert => 'client', method => 'POST', data => '', path => '/dict/logout', from => 'https://api.test/', stop_at => 'https://api.test/logged-out');
is($got->{stopped}, 'https://api.test/logged-out', 'a browser is logged out at the server, too, and comes back');
log_mark();
$got = browse(jar => 'a', cert => 'client', method => 'POST', data => '', path => '/dict/logout', from => 'https://evil.test/', no_follow => 1);
is(join(' ', $got->{status}, events()), '403 403 logout_cross_site', 'not from another site');
--- timeout: 60
--- no_error_log
[alert]
[error]

=== TEST 4: the password grant: from the header and from a form, in a session, with a note where its proof of possession is not checked; the refresh token of a client
--- kong eval
main::instances(header => main::grant(auth_methods => ['password']), body => main::grant(auth_methods => ['password'], password_param_type => ['body'], hide_credentials => $main::true),
    session => main::grant(auth_methods => [qw(session password)], session_secret => 'the-secret-of-sessions-0123456789', session_bind_certificate => $main::true,
        proof_of_possession_mtls => 'strict', proof_of_possession_auth_methods_validation => $main::false),
    refresh => main::grant(auth_methods => ['refresh_token']), own => main::grant(auth_methods => ['bearer'], scopes => undef, upstream_client_credentials => $main::true,
        upstream_client_credentials_args_names => ['scope'], upstream_client_credentials_args_values => ['write']))
--- run
as_control('/log/clear');
log_mark();
my $response = visit(path => '/header/x', authorization => basic('alice'));
is(outcome($response), '200', 'the header');
is(claims(bearer($response))->{sub}, 'alice', 'the token for the upstream');
is(shown('/token'), 'password client_id=web certificate=web port=mtls 200', 'seen by the server');
log_mark();
is(outcome(visit(path => '/header/x', authorization => basic('alice', 'wrong'))), '401 | 401 credentials_refused', 'a wrong password');
my @form = (method => 'POST', data => 'username=bob&password=bob-password&x=1', headers => ['Content-Type: application/x-www-form-urlencoded']);
log_mark();
$response = visit(path => '/body/x', @form);
is(outcome($response), '200', 'a form');
is(join(' ', seen($response)->{body}, seen($response)->{authorization} // '-'), 'username=bob&password=bob-password&x=1 -', 'which reaches the upstream; hide_credentials: without a token');
log_mark();
$response = visit(jar => 's', path => '/session/x', authorization => basic('alice'));
is(outcome($response), '200', 'a session');
is(cookies_set($response), '__Host-session more upstream', 'its cookie, beside those of the upstream');
like(log_since(), qr/\[keybound\] note, detail=proof of possession was not checked, method=password/, 'a note in the log');
log_mark();
$response = visit(jar => 's', path => '/session/x');
is(outcome($response) . ' ' . claims(bearer($response))->{sub}, '200 alice', 'by the cookie');
unlike(log_since(), qr/note,/, 'which is checked');
log_mark();
is(outcome(visit(stolen => 's', path => '/session/x', cert => 'thief')), '401 | 401 session_certificate_mismatch', 'not for a thief');

my $first = as_request('/token', { grant_type => 'password', username => 'alice', password => 'alice-password', scope => 'openid read' }, client => 'web', cert => 'web')->{refresh_token};
known('a refresh token', $first);
log_mark();
$response = visit(path => '/refresh/x', headers => ["Refresh-Token: $first"]);
my ($second, @more) = header($response, 'Refresh-Token');
known('a refresh token', $second);
is(outcome($response), '200', 'a refresh token');
like($second // '', qr/^[\w-]{20,}$/, 'the client gets the next one');
isnt($second, $first, 'which is another');
is(join(' ', scalar @more, seen($response)->{refresh_token} // '-', claims(bearer($response))->{sub}), '0 - alice', 'once; the upstream gets the access token, and neither of them');
log_mark();
is(outcome(visit(path => '/refresh/x', headers => ["Refresh-Token: $second"])), '200', 'it is good');

define(own => { as => 'any', cert => 'client' });
known('a token', named_token('own'));
log_mark();
$response = visit(path => '/own/x', token => 'own');
is(join(' ', outcome($response), @{ claims(bearer($response)) }{qw(client_id scope)}), '200 web write', "the gateway's own token for the upstream");
--- timeout: 60
--- no_error_log
[alert]
[error]

=== TEST 5: secrets from a vault: those of sessions may be rotated without a restart
--- env
KB_SESSION=the-first-secret-of-sessions-0123456789
KB_PREVIOUS=a-secret-of-long-ago-0123456789-0123456789
--- kong eval
main::instances(all => main::logins(session_secret => '{vault://env/kb-session}', session_previous_secrets => ['{vault://env/kb-previous}']))
--- run
logs_in('a login', 'a');
my $before = cookie('a');
kong_rotate('kb-session' => 'the-second-secret-of-sessions-012345678', 'kb-previous' => 'the-first-secret-of-sessions-0123456789');
my $deadline = Time::HiRes::time() + 5;
my $response;
do { log_mark(); $response = visit(jar => 'a'); select undef, undef, undef, 0.1 } until cookie('a') ne $before || Time::HiRes::time() > $deadline;
is(outcome($response), '200', 'a session from before');
isnt(cookie('a'), $before, 'is sealed with the new secret');
stolen('a', 'new');
kong_rotate('kb-session' => 'the-second-secret-of-sessions-012345678', 'kb-previous' => 'the-second-secret-of-sessions-012345678');
jar_of('old', '__Host-session' => $before);
$deadline = Time::HiRes::time() + 5;
do { log_mark(); $response = visit(stolen => 'old'); select undef, undef, undef, 0.1 } until $response->{status} != 200 || Time::HiRes::time() > $deadline;
is(outcome($response), '401 | 401 session_invalid', 'where the first secret is gone, so is its session');
log_mark();
is(outcome(visit(jar => 'new')), '200', 'and the other is good');
--- timeout: 60
--- no_error_log
[alert]
[error]

=== TEST 6: what cannot be used is refused when it is written, at the field
--- kong eval
main::instances(all => main::logins())
--- run
is(said(logins(session_storage => 'store', @{ $_->[0] })), $_->[1], $_->[1]) for
    [ [], 'accepted' ],
    [ [ shared_dict => undef ], '{"config":{"shared_dict":"required for logins, sessions and proofs, or redis: what all workers must know is kept there"}}' ],
    [ [ %REDIS, redis => { host => '127.0.0.1', port => 6379 }, store_secret => undef ], '{"config":{"store_secret":"required with redis: what is kept there is sealed with it (openssl rand -base64 32)"}}' ];
# field(OPTIONS): where the error is, and how it begins
sub field { my ($errors) = json(said($_[0])); my ($name, @more) = sort keys %{ $errors->{config} // {} }; return "$name: " . ($errors->{config}{$name} // json($errors)) . (@more ? " AND @more" : '') }
my @errors = (
    [ { session_secret => undef }, qr/^session_secret: required by session in auth_methods/ ],
    [ { session_secret => 'short' }, qr/^session_secret: must have at least 32 characters/ ],
    [ { session_previous_secrets => ['short'] }, qr/^session_previous_secrets: must have at least 32 characters/ ],
    [ { redirect_uri => undef }, qr/^redirect_uri: required by authorization_code/ ],
    [ { redirect_uri => ['http://api.test/callback'] }, qr/^redirect_uri: must be an https URL/ ],
    [ { session_cookie_same_site => 'Strict' }, qr/^session_cookie_same_site: Strict contradicts authorization_code/ ],
    [ { session_bind_certificate => undef }, qr/^session_bind_certificate: must be true for authorization_code/ ],
    [ { auth_methods => [qw(session authorization_code password)] }, qr/^auth_methods: password is not compatible with proof of possession/ ],
    [ { auth_methods => ['authorization_code'] }, qr/^auth_methods: authorization_code needs session/ ],
    [ { scopes => ['read'] }, qr/^scopes: must hold openid/ ],
    [ { logout_redirect_uri => ['https://api.test/'] }, qr/^logout_redirect_uri: has no effect without logout_uri_suffix/ ],
    [ { logout_uri_suffix => 'logout' }, qr/^logout_uri_suffix: must begin with a slash/ ],
    [ { disable_session => ['authorization_code'] }, qr/^disable_session: / ],
    [ { client_id => undef }, qr/^client_id: required/ ],
    [ { report_only => $true }, qr/^report_only: contradicts/ ],
    [ { upstream_client_credentials_args_names => ['scope'], upstream_client_credentials_args_values => ['x'] }, qr/^upstream_client_credentials_args_names: has no effect/ ],
    [ { password_param_type => ['body'] }, qr/^password_param_type: has no effect/ ],
    [ { auth_methods => ['nonsense'] }, qr/^auth_methods: / ],
    [ { session_rolling_timeout => -1 }, qr/^session_rolling_timeout: / ],
    [ { logout_methods => ['PATCH'], logout_uri_suffix => '/logout' }, qr/^logout_methods: / ],
    [ { authorization_query_args_names => ['state'], authorization_query_args_values => ['x'] }, qr/^authorization_query_args_names: state is set by keybound itself/ ],
);
like(field(logins(%{ $_->[0] })), $_->[1], join ', ', sort keys %{ $_->[0] }) for @errors;
--- no_error_log
[alert]
[error]

=== TEST 7: Kong 3.4: the same without a view of nginx's SSL object
--- flavour: 3.4
--- kong eval
main::instances(all => main::logins(logout_uri_suffix => '/logout'))
--- run
registered('web');
logs_in('a login', 'a', path => '/x');
for my $case ([ client => '200' ], [ '-' => '401 | 401 session_certificate_missing' ], [ thief => '401 | 401 session_certificate_mismatch' ]) {
    my ($cert, $expected) = @$case;
    log_mark();
    is(outcome(visit(stolen => 'a', cert => $cert)), $expected, "certificate $cert");
}
log_mark();
is(outcome(visit(jar => 'a', method => 'POST', path => '/logout')), '200 | 200 logged_out', 'logged out');
--- timeout: 60
--- no_error_log
[alert]
[error]

=== TEST 8: an anonymous upstream sees no cookie of the gateway and no refresh token that was tried; the twin without sessions sees all cookies
--- listener: optional_no_ca
--- kong eval
my %sessions = (auth_methods => ['session', 'bearer'], session_secret => 'x' x 32, shared_dict => 'keybound');
+{ consumers => [{ username => 'guest' }],
   main::routes(sessions => [main::keybound(anonymous => 'guest', %sessions)], none => [main::keybound(anonymous => 'guest')]) }
--- run
for my $path (qw(sessions none)) {
    my $response = call(cert => 'client', path => "/$path/", headers => ['Cookie: a=1; __Host-session=1.AAAA; __Host-session_login_x=1.AAAA; b=2']);
    is($response->{status}, 200, "$path: let through");
    is(seen($response)->{cookie}, $path eq 'none' ? 'a=1; __Host-session=1.AAAA; __Host-session_login_x=1.AAAA; b=2' : 'a=1; b=2', "$path: cookies");
}
