# Attacks on a login (RFC 9700 section 4, RFC 9207, OpenID Connect Core 1.0 section 3.1.3.7). Each has beside it what passes and differs in
# one thing, and whoever it is done to can log in and go on as if nothing had been.
use Keybound;
use Test::Nginx::Socket 'no_plan';
use Logins;

# So that a worker that dies is seen.
master_on();

our @NAVIGATION = ('Accept: text/html', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document');

# changed(URL, NAME, VALUE): another value of a parameter, as it is to stand there; without VALUE it is left out
sub changed {
    my ($url, $name, $value) = @_;
    $url =~ s/([?&])\Q$name\E=[^&]*/defined $value ? "$1$name=$value" : $1/e or die "no $name in $url\n";
    return $url =~ s/\?&/?/r =~ s/&&/&/r =~ s/&$//r;
}

# goes_to(TARGET): where a login leads that begins with this request target, octets as they are
sub goes_to {
    my ($target) = @_;
    my $start = call(cert => 'client', path => $target, headers => \@NAVIGATION);
    return "$start->{status} at the start" if $start->{status} != 302;
    my ($cookie) = header($start, 'Set-Cookie') =~ /^([^;]+)/;
    known('a cookie', $cookie =~ /=(.*)/);
    my $back = begun(jar => 'as', url => scalar header($start, 'Location'));
    my $end = call(cert => 'client', path => $back =~ s{^https://api\.test}{}r, headers => [ @NAVIGATION, "Cookie: $cookie" ]);
    known('a cookie', map { /^[^=]+=([^;]+)/ } header($end, 'Set-Cookie'));
    return $end->{status} == 302 ? scalar header($end, 'Location') : "$end->{status} at the end";
}

# raw(TEXT): the answer to these octets
sub raw {
    my ($text) = @_;
    my (undef, $out) = command($text, qw(timeout 5 openssl s_client -quiet -ign_eof -connect), "127.0.0.1:$Keybound::TLS_PORT", '-servername', 'api.test', '-CAfile', "$PKI/ca.crt",
        '-cert', "$PKI/client.crt", '-key', "$PKI/client.key");
    return $out;
}

# node(): the command
sub node { return (command('', "$ROOT/tools/node.sh"))[1] =~ s/\n//r }

# serving(): the processes of nginx that serve
sub serving {
    return join ' ', sort map { /worker process/ ? /^\s*(\d+)/ : () } split /\n/, (command('', 'ps', '-o', 'pid=,args=', '--ppid',
        read_file("$ENV{TEST_NGINX_SERVROOT}/logs/nginx.pid") =~ s/\s//gr))[1];
}

run_tests();

__DATA__

=== TEST 1: 6749-10.12: a state that no login of this browser has; and none at all
--- run
my $url = begun(jar => 'a', path => '/x?y=1');
returns('another', '400 login_state_missing', changed($url, 'state', 'A' x 43), jar => 'a');
returns('none', '400 login_response_malformed', changed($url, 'state'), jar => 'a');
returns('empty', '400 login_response_malformed', changed($url, 'state', ''), jar => 'a');
my $state = query($url)->{state};
returns('the same name of the cookie, and another rest', '400 login_state_invalid', changed($url, 'state', substr($state, 0, 16) . 'A' x 27), jar => 'a');
returns('one more character', '400 login_response_malformed', changed($url, 'state', $state . 'A'), jar => 'a');
is(cookie('a'), undef, 'no session from any');
$url = begun(jar => 'a', path => '/x?y=1');
is(returns('its own', '302 login_completed', $url, jar => 'a')->{headers}{location}, 'https://api.test/x?y=1', 'back where it began');
works('logged in', 'a');
--- no_error_log
[error]
[alert]

=== TEST 2: a login comes back once: the same request again, with the cookies from before it, is refused, and the code is not sent again
--- run
my $url = begun(jar => 'a');
stolen('a', 'copy');
stolen('a', 'later');
as_control('/log/clear');
returns('the first time', '302 login_completed', $url, jar => 'a');
returns('again, with the cookies it has now', '400 login_state_missing', $url, jar => 'a');
returns('again, with the cookies of then', '400 login_state_reused', $url, jar => 'copy');
# What was taken back is no better the next time, nor with another code.
stolen('later', 'copy');
returns('with another code', '400 login_state_reused', changed($url, 'code', 'other'), jar => 'copy');
stolen('later', 'copy');
returns('by another who holds the cookies, too', '400 login_state_invalid', $url, jar => 'copy', cert => 'thief');
is(scalar asked('/token'), 1, 'one request for tokens');
is(cookie('copy'), undef, 'no session for the copy');
works('who was first', 'a');
--- no_error_log
[error]
[alert]

=== TEST 3: and once only when twenty come at the same moment
--- run
my $url = begun(jar => 'a');
as_control('/log/clear');
log_mark();
my ($seen) = at_once(20, { cert => 'client', path => $url =~ s{^https://api\.test}{}r . '&n=', headers => [ @NAVIGATION, 'Cookie: ' . cookies('a') ] });
is(json($seen), '{"302":1,"400":19}', 'one of them');
is(scalar asked('/token'), 1, 'one request for tokens');
my %reasons;
$reasons{$_}++ for log_since() =~ /reason=(\w+)/g;
is(json({ map { ($_ => $reasons{$_}) } grep { /^login/ } keys %reasons }), '{"login_completed":1,"login_state_reused":19}', 'the log');
--- no_error_log
[alert]

=== TEST 4: 6749-10.12, 9700-4.7: login CSRF: a browser that is made to end the login of an attacker is not logged in as him
--- run
sees('the victim is logged in', $FLOW, jar => 'victim', user => 'alice');
my $theirs = cookie('victim');
my $evil = begun(jar => 'evil', cert => 'thief', user => 'bob');
returns('one who has a session', '400 login_state_missing', $evil, jar => 'victim', from => 'https://evil.test/');
is(cookie('victim'), $theirs, 'it is as it was');
is(seen(works('still', 'victim'))->{sub}, 'alice', 'she is who she was');
returns('one who has none', '400 login_state_missing', $evil, jar => 'fresh', from => 'https://evil.test/');
is(cookie('fresh'), undef, 'none is begun');
my $own = begun(jar => 'fresh');
returns('one who is about to log in', '400 login_state_missing', $evil, jar => 'fresh', from => 'https://evil.test/');
returns('and the own login goes on', '302 login_completed', $own, jar => 'fresh');
is(seen(works('own', 'fresh'))->{sub}, 'alice', 'as herself');
returns('the twin: the attacker himself', '302 login_completed', $evil, jar => 'evil', cert => 'thief');
is(seen(works('bob', 'evil', cert => 'thief'))->{sub}, 'bob', 'he is bob');
--- no_error_log
[error]
[alert]

=== TEST 5: the other way: a callback that was stolen is of no use in another browser, and its owner still comes in
--- run
my $url = begun(jar => 'a');
as_control('/log/clear');
returns('a browser without a login', '400 login_state_missing', $url, jar => 'evil', cert => 'thief');
begun(jar => 'evil', cert => 'thief', user => 'bob');
returns('one with a login of its own', '400 login_state_missing', $url, jar => 'evil', cert => 'thief');
is(scalar asked('/token'), 0, 'the code was not sent');
is(cookie('evil'), undef, 'no session');
returns('the twin: its owner', '302 login_completed', $url, jar => 'a');
works('owner', 'a');
--- no_error_log
[error]
[alert]

=== TEST 6: who steals callback and cookies of a login half way gets no session with a certificate of his own, and does not end the login
--- run
my $url = begun(jar => 'a');
as_control('/log/clear');
for ([ 'thief', '400 login_state_invalid' ], [ 'same-name', '400 login_state_invalid' ], [ '-', '401 session_certificate_missing' ]) {
    my ($cert, $expected) = @$_;
    stolen('a', 'evil');
    my $got = returns("with $cert", $expected, $url, jar => 'evil', cert => $cert);
    is($got->{headers}{'set-cookie'}, undef, "with $cert: no cookie is set, none is taken");
}
is(scalar asked('/token'), 0, 'the code was not sent');
returns('the twin: its owner', '302 login_completed', $url, jar => 'a');
works('owner', 'a');
--- no_error_log
[error]
[alert]

=== TEST 7: 7636-1, 9700-4.5: a code of another login under an own state: the verifier is not the one that it was made for
--- run
my $victim = begun(jar => 'victim');
my $evil = begun(jar => 'evil', cert => 'thief', user => 'bob');
my $got = returns('a stolen code', '400 code_refused', changed($evil, 'code', query($victim)->{code}), jar => 'evil', cert => 'thief');
is(join(', ', @{ $got->{details} }), 'invalid_grant', 'the server says so');
is(cookie('evil'), undef, 'no session');
returns('its owner is not harmed', '302 login_completed', $victim, jar => 'victim');
is(seen(works('owner', 'victim'))->{sub}, 'alice', 'she is alice');
# Two logins of one browser
my ($one, $two) = map { begun(jar => 'both') } 1 .. 2;
returns('the code of the other tab', '400 code_refused', changed($one, 'code', query($two)->{code}), jar => 'both');
returns('its own', '302 login_completed', $two, jar => 'both');
$evil = begun(jar => 'evil', cert => 'thief', user => 'bob');
returns('the twin', '302 login_completed', $evil, jar => 'evil', cert => 'thief');
--- no_error_log
[error]
[alert]

=== TEST 8: a code that is used up, and one of another client
--- engine
kb = logins {}
at("other", { client_id = "web-self-signed", client_auth = "self_signed_tls_client_auth", tls_client_auth_cert_id = "own", session_cookie_name = "__Host-other",
    client_certificates = { own = certificate "web-self-signed" } })
--- run
as_control('/redirect', { client_id => 'web-self-signed', redirect_uris => [ 'https://api.test/at/other/callback' ] });
my $used = begun(jar => 'a');
returns('used', '302 login_completed', $used, jar => 'a');
returns('again under another state', '400 code_refused', changed(begun(jar => 'b'), 'code', query($used)->{code}), jar => 'b');
my $other = begun(jar => 'c', path => '/at/other/');
returns('of another client', '400 code_refused', changed(begun(jar => 'b'), 'code', query($other)->{code}), jar => 'b');
returns('one that there never was', '400 code_refused', changed(begun(jar => 'b'), 'code', 'x'), jar => 'b');
returns('the twin: at its own client', '302 login_completed', $other, jar => 'c');
returns('the twin: its own', '302 login_completed', begun(jar => 'b'), jar => 'b');
--- no_error_log
[error]
[alert]

=== TEST 9: 9207-2.4: the answer of another authorization server (mix-up)
--- run
my $issuer = as_start()->{issuer};
for (
    [ 'another', 'https%3A%2F%2Fevil.test' ], [ 'with a slash behind it', query(begun(jar => 'a'))->{iss} . '/' ], [ 'in capitals', uc $issuer ], [ 'empty', '' ],
    [ 'with a space', "$issuer+" ], [ 'none', undef ],
) {
    my ($name, $iss) = @$_;
    as_control('/log/clear');
    returns($name, '400 login_issuer_mismatch', changed(begun(jar => 'a'), 'iss', $iss), jar => 'a');
    is(scalar asked('/token'), 0, "$name: the code was not sent");
    is(cookie('a'), undef, "$name: no session");
}
returns('twice', '400 login_response_malformed', begun(jar => 'a') . '&iss=https%3A%2F%2Fevil.test', jar => 'a');
returns('twice the same', '400 login_response_malformed', begun(jar => 'a') . '&iss=' . ($issuer =~ s/([:\/])/sprintf '%%%02X', ord $1/ger), jar => 'a');
returns('an error of another', '400 login_issuer_mismatch', changed(changed(begun(jar => 'a'), 'iss', 'https%3A%2F%2Fevil.test'), 'code') . '&error=access_denied', jar => 'a');
returns('the twin: its own', '302 login_completed', begun(jar => 'a'), jar => 'a');
returns('the twin: written without escapes', '302 login_completed', changed(begun(jar => 'a'), 'iss', $issuer), jar => 'a');
as_control('/metadata', { drop => [ 'authorization_response_iss_parameter_supported' ] });
--- no_error_log
[error]
[alert]

=== TEST 10: 9207-2.4: a server that does not promise iss may leave it out; another one's is refused all the same
--- engine
kb = logins { timeout = 2001 }
--- run
returns('none', '302 login_completed', changed(begun(jar => 'a'), 'iss'), jar => 'a');
returns('its own', '302 login_completed', begun(jar => 'a'), jar => 'a');
returns('another', '400 login_issuer_mismatch', changed(begun(jar => 'b'), 'iss', 'https%3A%2F%2Fevil.test'), jar => 'b');
as_control('/metadata');
works('a', 'a');
--- no_error_log
[error]
[alert]

=== TEST 11: 6749-3.1: parameters that come twice, in whatever spelling, and answers that say two things or none
--- run
my $code = sub { query($_[0])->{code} };
for (
    [ 'code twice', sub { "$_[0]&code=other" } ],
    [ 'code twice the same', sub { "$_[0]&code=" . $code->($_[0]) } ],
    [ 'code twice, one in escapes', sub { "$_[0]&%63ode=other" } ],
    [ 'state twice', sub { "$_[0]&state=" . query($_[0])->{state} } ],
    [ 'state twice, one in escapes', sub { "$_[0]&st%61te=" . 'A' x 43 } ],
    [ 'code and error', sub { "$_[0]&error=access_denied" } ],
    [ 'error twice', sub { changed($_[0], 'code') . '&error=a&error=b' } ],
    [ 'neither', sub { changed($_[0], 'code') } ],
    [ 'an empty code', sub { changed($_[0], 'code', '') } ],
    [ 'a code with a space', sub { changed($_[0], 'code', 'a+b') } ],
    [ 'a code with a NUL', sub { changed($_[0], 'code', 'a%00b') } ],
    [ 'a code that is no UTF-8', sub { changed($_[0], 'code', 'a%ff') } ],
    [ 'a line end in another parameter', sub { "$_[0]&x=%0d%0aSet-Cookie:+a=b" } ],
    [ 'only a name', sub { "$_[0]&code" } ],
) {
    my ($name, $change) = @$_;
    my $url = begun(jar => 'a');
    as_control('/log/clear');
    returns($name, '400 login_response_malformed', $change->($url), jar => 'a');
    is(scalar asked('/token'), 0, "$name: the code was not sent");
    # It was no answer at all: that of the server is still to come.
    returns("$name: and then its own", '302 login_completed', $url, jar => 'a');
}
returns('the twin: what is unknown is not looked at', '302 login_completed', begun(jar => 'b') . '&session_state=x&x=1&x=2', jar => 'b');
--- no_error_log
[error]
[alert]
--- timeout: 60

=== TEST 12: a callback that comes by another method is none, and the login goes on
--- run
my $url = begun(jar => 'a');
my ($bare, $query) = split /\?/, $url;
for ([ 'form_post', url => $bare, method => 'POST', data => $query ], [ 'POST', url => $url, method => 'POST', data => '' ], [ 'HEAD', url => $url, method => 'HEAD' ],
    [ 'PUT', url => $url, method => 'PUT', data => '' ]) {
    my ($name, %how) = @$_;
    # Lax cookies do not come with a form of another site: here it is given the best there is for it.
    my $got = sees($name, '400 login_response_malformed', jar => 'a', no_follow => 1, from => 'https://api.test/', %how);
    is(join(', ', @{ $got->{details} }), 'it did not come by GET', "$name: the log says why");
}
returns('GET', '302 login_completed', $url, jar => 'a');
works('a', 'a');
--- no_error_log
[error]
[alert]

=== TEST 13: OIDC-Core-3.1.3.7: ID tokens that are not for this login, from the real token endpoint
--- run
my $now = time;
my $refuses = sub {
    my ($name, $detail, $change) = @_;
    my $url = begun(jar => 'a');
    tampered($change, sub {
        my $got = returns($name, '400 id_token_invalid', $url, jar => 'a');
        like(join(', ', @{ $got->{details} }), $detail, "$name: the log says why");
    });
    is(cookie('a'), undef, "$name: no session");
};
my $takes = sub {
    my ($name, $change) = @_;
    my $url = begun(jar => 'b');
    tampered($change, sub { returns("the twin: $name", '302 login_completed', $url, jar => 'b') });
};
my $set = sub { return { id_token => { set => {@_} } } };
my $issuer = as_start()->{issuer};
$takes->('signed again and not changed', $set->());
$refuses->('another nonce', qr/^nonce is not that of the login$/, $set->(nonce => 'A' x 43));
$refuses->('the nonce of the same length but for its case', qr/^nonce is not that/, $set->(nonce => 'a' x 43));
$refuses->('no nonce', qr/^there is no nonce$/, { id_token => { drop => [ 'nonce' ] } });
$refuses->('a nonce that is no string', qr/^claims_malformed$/, $set->(nonce => [ 'x' ]));
$refuses->('for another client', qr/^aud does not hold the client$/, $set->(aud => 'web-self-signed'));
$refuses->('for another client, too', qr/^aud holds somebody who is not trusted$/, $set->(aud => [ 'web', 'web-self-signed' ], azp => 'web'));
$takes->('for our API, too', $set->(aud => [ 'web', 'https://api.test' ], azp => 'web'));
$refuses->('for our API, too, and nobody says who asked', qr/^there are several aud and no azp$/, $set->(aud => [ 'web', 'https://api.test' ]));
$refuses->('asked by another', qr/^azp is not the client$/, $set->(azp => 'web-self-signed'));
$takes->('asked by us', $set->(azp => 'web'));
$takes->('a list of one', $set->(aud => [ 'web' ]));
$refuses->('another issuer', qr/^iss is not the issuer$/, $set->(iss => "$issuer/"));
$refuses->('at_hash of another token', qr/^at_hash is not that of the access token$/, $set->(at_hash => 'A' x 22));
$takes->('its at_hash', { id_token => { at_hash => JSON::PP::true } });
$refuses->('alg none', qr/^algorithm_refused$/, { id_token => { header => { alg => 'none' } } });
$refuses->('HS256 with the public key', qr/^algorithm_refused$/, { id_token => { header => { alg => 'HS256' } } });
$refuses->('a rogue key', qr/^signature_invalid$/, { id_token => {}, sign => 'rogue' });
$refuses->('a kid that there is not', qr/^key_unknown$/, { id_token => { header => { kid => 'other' } } });
$refuses->('the type of an access token', qr/^type_refused$/, { id_token => { header => { typ => 'at+jwt' } } });
$refuses->('a logout token', qr/^events is there/, $set->(events => {}));
$refuses->('over', qr/^token_expired$/, $set->(exp => $now - 120));
$refuses->('no end', qr/^there is no exp$/, { id_token => { drop => [ 'exp' ] } });
$refuses->('not yet', qr/^token_not_yet_valid$/, $set->(nbf => $now + 3600));
$refuses->('old', qr/^iat is more than 24 hours ago$/, $set->(iat => $now - 90000));
$refuses->('no subject', qr/^there is no sub$/, { id_token => { drop => [ 'sub' ] } });
$refuses->('an empty subject', qr/^sub is empty/, $set->(sub => ''));
$refuses->('no ID token', qr/^there is none$/, { drop => [ 'id_token' ] });
$refuses->('an access token in its place', qr/^\w/, { set => { id_token => token(as => 'any', cert => 'client') } });
$takes->('after all that', $set->());
works('after all that', 'b');
--- no_error_log
[alert]
--- timeout: 60

=== TEST 14: 6749-5.1: answers of the token endpoint that are none, and tokens that are not for here
--- run
define(opaque => { as => 'any', cert => 'client', resource => 'opaque' });
for (
    [ 'a token of another type', '503 server_unavailable', 'token_type is not Bearer', { set => { token_type => 'DPoP' } } ],
    [ 'no type', '503 server_unavailable', 'token_type is not Bearer', { drop => [ 'token_type' ] } ],
    [ 'no token', '503 server_unavailable', 'there is no access_token', { drop => [ 'access_token' ] } ],
    [ 'a token that breaks lines', '503 server_unavailable', 'access_token is not a token of at most 8192 characters', { set => { access_token => "a\r\nX-Evil: 1" } } ],
    [ 'a token that is over', '503 server_unavailable', 'expires_in is not more than 0', { set => { expires_in => 0 } } ],
    [ 'an end that is no number', '503 server_unavailable', 'expires_in is not a whole number', { set => { expires_in => '600' } } ],
    [ 'a token that cannot be checked here', '401 token_not_jwt', '', { set => { access_token => named_token('opaque') } } ],
    [ 'a token of another issuer', '401 issuer_mismatch', '', { set => { access_token => token(for => 'web') } } ],
) {
    my ($name, $expected, $detail, $change) = @$_;
    my $url = begun(jar => 'a');
    tampered($change, sub {
        my $got = returns($name, $expected, $url, jar => 'a');
        is(join(', ', @{ $got->{details} }), $detail, "$name: the log");
    });
    is(cookie('a'), undef, "$name: no session");
}
returns('the twin', '302 login_completed', begun(jar => 'b'), jar => 'b');
works('the twin', 'b');
--- no_error_log
[error]
[alert]

=== TEST 15: open redirects: whatever a login begins with, it ends on our own host
--- run
sees('the session at the server', $FLOW, jar => 'as', user => 'alice');
jar('as', [ grep { $_->{domain} ne 'api.test' } @{ jar('as') } ]);
my $safe = 'https://api.test/';
my @ends;
for (
    [ '//evil.test', '' ], [ '//evil.test/%2e%2e', '' ], [ '///evil.test', '' ], [ '////evil.test', '' ], [ '//api.test@evil.test/', '' ], [ '//', '' ], [ '//?x', '' ],
    [ '/\\evil.test', '' ], [ '/\\/evil.test', '' ], [ '/\\\\evil.test', '' ], [ '/x\\..\\evil.test', '' ], [ '//evil.test\\@api.test', '' ],
    # What a browser does not decode before it looks for a host stays a path of ours.
    [ '/%2f/evil.test', '%2f/evil.test' ], [ '/%2f%2fevil.test', '%2f%2fevil.test' ], [ '/%5cevil.test', '%5cevil.test' ], [ '/%5c%5cevil.test', '%5c%5cevil.test' ], [ '/%09/evil.test', '%09/evil.test' ],
    [ '/.//evil.test', './/evil.test' ], [ '/..//evil.test', undef ], [ '/%2e%2e//evil.test', undef ], [ '/%2e//evil.test', '%2e//evil.test' ], [ '/@evil.test', '@evil.test' ], [ '/:@evil.test', ':@evil.test' ],
    [ '/https://evil.test', 'https://evil.test' ], [ '/https:evil.test', 'https:evil.test' ], [ '/javascript:alert(1)', 'javascript:alert(1)' ], [ '/data:text/html,x', 'data:text/html,x' ],
    [ '/?return_to=https://evil.test', '?return_to=https://evil.test' ], [ '/?redirect_uri=//evil.test&state=x', '?redirect_uri=//evil.test&state=x' ], [ '/x?y=//evil.test', 'x?y=//evil.test' ],
    [ '/%0d%0aLocation:%20https://evil.test', '%0d%0aLocation:%20https://evil.test' ], [ '/x%0d%0aSet-Cookie:%20a=b', 'x%0d%0aSet-Cookie:%20a=b' ], [ '/%00//evil.test', undef ],
    [ '/;//evil.test', ';//evil.test' ], [ '/%E3%80%82evil.test', '%E3%80%82evil.test' ], [ "/\xe3\x80\x82evil.test", '%e3%80%82evil.test' ], [ '/"><script>', '"><script>' ], [ '/' . 'x' x 1023, 'x' x 1023 ], [ '/' . 'x' x 1024, '' ],
) {
    my ($target, $end) = @$_;
    my $got = goes_to($target);
    my $name = length $target > 80 ? 'octets: ' . length $target : $target =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ger;
    defined $end ? is($got, "$safe$end", $name) : is($got, '400 at the start', "$name: nginx takes it for no request");
    push @ends, $got if $got =~ /^https/;
}
my (undef, $origins) = command('', node(), '-e', 'for (const url of process.argv.slice(1)) console.log(new URL(url).origin)', @ends);
is($origins, "https://api.test\n" x @ends, 'and a browser reads them so');
--- no_error_log
[alert]
--- timeout: 60

=== TEST 16: request lines that name another host
--- run
my $lines = join "\r\n", @NAVIGATION, 'Connection: close', '', '';
for ([ 'GET https://evil.test/x HTTP/1.1', 'Host: api.test' ], [ 'GET https://api.test/x HTTP/1.1', 'Host: evil.test' ], [ 'GET http://evil.test//x HTTP/1.1', 'Host: evil.test' ], [ 'GET /x HTTP/1.1', 'Host: evil.test' ],
    [ 'GET /x HTTP/1.1', "Host: api.test\r\nHost: evil.test" ], [ 'GET /x HTTP/1.1', 'Host: api.test:444' ], [ 'GET /x HTTP/1.1', 'Host: api.test.' ], [ 'GET /x HTTP/1.1', 'Host: api.test@evil.test' ],
    [ 'GET /x HTTP/1.1', "Host: api.test\r\nX-Forwarded-Host: evil.test\r\nForwarded: host=evil.test" ], [ 'GET /x HTTP/1.1', 'Host: API.TEST:443' ]) {
    my ($line, $host) = @$_;
    my $out = raw("$line\r\n$host\r\n$lines");
    my ($status) = $out =~ m{^HTTP/1\.1 (\d+)};
    my $is_ours = $host =~ /^Host: api\.test(?::443)?(?:$|\r\nX-)/i;
    is($status, $is_ours ? 302 : $host =~ /\nHost/ ? 400 : 401, "$line, " . $host =~ s/\r\n/, /gr) if $line !~ m{//};
    # nginx takes the host of an absolute target for that of the request, and hands on what was in Host.
    unlike($out, qr/evil/, 'nothing in the answer leads elsewhere');
}
--- no_error_log
[alert]

=== TEST 17: values that are too long, or hold what they must not: an answer each time, from the same process
--- run
my $before = serving();
like($before, qr/^\d+$/, 'there is one process');
my $url = begun(jar => 'a');
my $cookies = cookies('a');
my ($login) = $cookies =~ /^(__Host-session_login_[\w-]+)=/;
my %query = %{ query($url) };
my $state = $query{state};
my %seen;
my $try = sub {
    my ($name, $allowed, %call) = @_;
    my $response = call(cert => 'client', headers => [ @NAVIGATION, @{ delete $call{more} // [] } ], %call);
    like($response->{status} // 'none', qr/^(?:$allowed)$/, $name);
    $seen{ $response->{status} // 'none' }++;
};
my @bad = ([ NUL => '%00' ], [ 'a NUL within' => 'a%00b' ], [ 'a line end' => '%0d%0a' ], [ DEL => '%7f' ], [ 'no UTF-8' => '%ff%fe' ], [ 'half an escape' => '%4' ], [ 'an overlong NUL' => '%c0%80' ],
    map { [ "$_ long" => 'a' x $_ ] } 44, 2049, 4097, 8100, 15000);
for (@bad) {
    my ($name, $value) = @$_;
    $try->("state: $name", '400|414', path => "/callback?code=x&iss=y&state=$value", more => [ "Cookie: $cookies" ]);
    $try->("code: $name", '400|414|302', path => "/callback?code=$value&state=$state&iss=y", more => [ "Cookie: $cookies" ]);
    $try->("iss: $name", '400|414', path => "/callback?code=x&state=$state&iss=$value", more => [ "Cookie: $cookies" ]);
    $try->("error: $name", '400|414', path => "/callback?error=$value&state=$state&iss=y", more => [ "Cookie: $cookies" ]);
    $try->("a name: $name", '400|414', path => "/callback?$value=x&code=x&state=$state&iss=y", more => [ "Cookie: $cookies" ]);
    $try->("target: $name", '302|400|414', path => "/$value?$value");
    my $text = $value =~ s/%([0-9a-f]{2})/chr hex $1/ger;
    next if $text =~ /[\0\r\n]/;
    $try->("cookie of a login: $name", '400', path => "/callback?code=x&state=$state&iss=y", more => [ "Cookie: $login=$text" ]);
    $try->("cookie of a login, framed: $name", '400', path => "/callback?code=x&state=$state&iss=y", more => [ "Cookie: $login=1.$text" ]);
    $try->("cookie of the session: $name", '302|400', more => [ "Cookie: __Host-session=$text" ]);
    $try->("cookie of the session, framed: $name", '302|400', more => [ "Cookie: __Host-session=1.$text; __Host-session_2=$text" ]);
    $try->("name of a cookie: $name", '302|400', more => [ "Cookie: $text=1" ]);
}
$try->('no query', '400', path => '/callback');
$try->('an empty query', '400', path => '/callback?');
$try->('only separators', '400', path => '/callback?' . '&' x 5000);
$try->('thousands of parameters', '400', path => '/callback?' . join '&', map { "a$_=1" } 1 .. 1000);
$try->('thousands of cookies', '302|400', more => [ 'Cookie: ' . join '; ', map { "c$_=$_" } 1 .. 1500 ]);
$try->('thousands of parts', '302|400', more => [ 'Cookie: ' . join '; ', map { "__Host-session_$_=1" } 1 .. 900 ]);
$try->('thousands of logins', '302|400', more => [ 'Cookie: ' . join '; ', map { "__Host-session_login_$_=1" } 1 .. 700 ]);
# Octets that curl does not send
my $end = join "\r\n", '', @NAVIGATION, 'Connection: close', '', '';
for ([ 'a NUL in Host', "GET / HTTP/1.1\r\nHost: api\0.test$end" ], [ 'a long Host', "GET / HTTP/1.1\r\nHost: " . 'a' x 5000 . $end ], [ 'a NUL in a cookie', "GET / HTTP/1.1\r\nHost: api.test\r\nCookie: __Host-session=1.\0$end" ],
    [ 'a NUL in the target', "GET /\0x HTTP/1.1\r\nHost: api.test$end" ], [ 'control characters in a cookie', "GET / HTTP/1.1\r\nHost: api.test\r\nCookie: __Host-session=1.\x01\x02\x7f\xff$end" ],
    [ 'no Host', "GET / HTTP/1.0$end" ], [ 'an empty Host', "GET / HTTP/1.1\r\nHost:$end" ], [ 'a tab in a cookie', "GET / HTTP/1.1\r\nHost: api.test\r\nCookie:\t__Host-session\t=\t1.AAAA\t$end" ],
    [ 'control characters in Accept', "GET / HTTP/1.1\r\nHost: api.test\r\nAccept: \x01text/html\x7f$end" ]) {
    my ($name, $text) = @$_;
    like(raw($text), qr{^HTTP/1\.1 (?:302|400|401) }, $name);
}
is(serving(), $before, 'the same process');
ok(!$seen{500}, 'no answer was 500: ' . json(\%seen));
sees('it serves', $FLOW, jar => 'b', user => 'alice');
--- no_error_log
[alert]
exited on signal
--- timeout: 60

=== TEST 18: the cookie of a login: changed in any place, of another login, host, instance or secret, or a session's
--- engine
kb = logins {}
at("other", { session_audience = "other" })
at("another", { session_secret = "another-secret-of-sessions-012345" })
at("same", {})
--- run
my $url = begun(jar => 'a');
my ($name, $value) = map { ($_->{name}, $_->{value}) } grep { $_->{domain} eq 'api.test' } @{ jar('a') };
my $path = $url =~ s{^https://api\.test}{}r;
my @changed = map { my $at = $_; my $old = substr $value, $at, 1; my $text = $value; substr $text, $at, 1, $old eq 'A' ? 'B' : 'A'; "$name=$text" } 0 .. length($value) - 1;
my %count;
log_mark();
$count{$_}++ for statuses(\@changed, cert => 'client', path => $path);
is(json(\%count), '{"400":' . @changed . '}', 'in any place');
my %reasons;
$reasons{$_}++ for log_since() =~ /reason=(\w+)/g;
is(join(' ', keys %reasons), 'login_state_invalid', 'the log');
is(json({ map { ($_ => 1) } statuses([ map { "$name=" . substr $value, 0, $_ } 0 .. length($value) - 1 ], cert => 'client', path => $path) }), '{"400":1}', 'of any shorter length');
is(join(' ', statuses([ "$name=$value; $name=1.AAAA", "$name=1.AAAA; $name=$value", "$name=$value; ${name}_2=AAAA" ], cert => 'thief', path => "$path&x=%00")), '400 400 400', 'twice');
my $other = begun(jar => 'b');
my ($b) = map { $_->{value} } grep { $_->{domain} eq 'api.test' } @{ jar('b') };
jar_of('c', $name, $b);
returns('of another login', '400 login_state_invalid', $url, jar => 'c');
for my $at (qw(other another)) {
    my $there = $url =~ s{/callback}{/at/$at/callback}r;
    stolen('a', 'c');
    returns("at $at", '400 login_state_invalid', $there, jar => 'c');
}
sees('a session', $FLOW, jar => 's', user => 'alice');
jar_of('c', $name, cookie('s'));
returns('the cookie of a session', '400 login_state_invalid', $url, jar => 'c');
jar_of('c', '__Host-session', $value);
sees('as the cookie of a session', '401 session_invalid', jar => 'c', fetch => 1);
stolen('a', 'c');
my $redeemed = returns('the twin: an instance of the same kind opens it; the code is of another redirect URI', '400 code_refused', $url =~ s{/callback}{/at/same/callback}r, jar => 'c');
returns('and then it is used', '400 login_state_reused', $url, jar => 'a');
returns('the twin: its own', '302 login_completed', $other, jar => 'b');
--- no_error_log
[error]
[alert]
--- timeout: 60

=== TEST 19: 9126-2.2: answers to a pushed request that are none, or that would say more in a URL
--- engine
kb = logins { require_pushed_authorization_requests = true }
--- run
my $with = sub {
    my ($change, $code) = @_;
    as_control('/tamper', { path => '/request', %$change });
    my $got = $code->();
    as_control('/tamper');
    return $got;
};
for ([ 'none', { drop => [ 'request_uri' ] } ], [ 'empty', { set => { request_uri => '' } } ], [ 'a line end', { set => { request_uri => "urn:x\r\nX-Evil: 1" } } ], [ 'a number', { set => { request_uri => 1 } } ]) {
    my ($name, $change) = @$_;
    $with->($change, sub { sees($name, '503 server_unavailable', jar => 'a') });
}
my $got = $with->({ set => { request_uri => 'urn:x&redirect_uri=https://evil.test' } }, sub { sees('parameters in it', '302 login_started', jar => 'a', no_follow => 1) });
is(json(query($got->{headers}{location})), json({ client_id => 'web', request_uri => 'urn:x&redirect_uri=https://evil.test' }), 'they stay one value');
sees('the twin', $FLOW, jar => 'a', user => 'alice');
--- no_error_log
[alert]
