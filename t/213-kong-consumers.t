# Who the client is to Kong: the consumer and the credential of a token, groups, the anonymous consumer, and what is left of earlier plugins.
use Kong;
use Test::Nginx::Socket 'no_plan';

our ($true, $false) = (JSON::PP::true, JSON::PP::false);
# One of each consumer: an id that is known.
sub id { return '00000000-0000-4000-8000-' . unpack 'H12', substr "$_[0]______", 0, 6 }
sub consumer { my ($name, %more) = @_; return { id => id($name), username => $name, %more } }

# What later plugins are told of who it is, as a header.
our $SEEN = { name => 'probe', config => { access => <<'EOL' } };
local consumer, credential = kong.client.get_consumer() or {}, kong.client.get_credential() or {}
kong.service.request.set_header("X-Seen", table.concat({ consumer.id or "-", consumer.custom_id or "-", consumer.username or "-", credential.id or "-" }, " "))
EOL
our @KONGS_OWN = qw(x-consumer-id x-consumer-custom-id x-consumer-username x-credential-identifier);

# who(%call): "STATUS CONSUMER CREDENTIAL" if the request passed, else "STATUS REASON". What later plugins and the upstream are told must be
# the same.
sub who {
    my (%call) = (cert => 'client', @_);
    log_mark();
    my $response = call(%call);
    return join ' ', $response->{status}, map { (split / /)[1] } reasons() if $response->{status} != 200;
    my %told = map { /^([\w-]+): (.*)$/ ? (lc $1 => $2) : () } split /\r\n/, $response->{body};
    my $told = join ' ', map { $told{$_} // '-' } @KONGS_OWN;
    my $seen = delete $told{'x-seen'} // 'no probe';
    my (undef, $custom_id, $username, $credential) = split / /, $seen;
    my $name = $username ne '-' ? $username : $custom_id;
    my @wrong = grep { defined } $told ne $seen ? "the upstream is told $told, plugins $seen" : undef,
        ($told{'x-anonymous-consumer'} // '') ne ($name ne '-' && $credential eq '-' ? 'true' : '') ? 'X-Anonymous-Consumer: ' . ($told{'x-anonymous-consumer'} // '') : undef;
    return join ' BUT ', "200 $name $credential", @wrong;
}
# of(CLAIMS): who() with a bound token that has these
my $defined = 0;
sub of { my ($claims, %call) = @_; my $name = 't' . ++$defined; define($name => { for => 'client', claims => $claims }); return who(token => $name, %call) }
# A request of an earlier plugin's consumer.
sub key { return (headers => ["apikey: $_[0]"]) }
our $KEY_AUTH = { name => 'key-auth-probe', config => { anonymous => 'visitor' } };

run_tests();

__DATA__

=== TEST 1: a claim at a path names the consumer, by a string or an integer that is exact
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('alice'), map { { id => main::id("n$_->[0]"), custom_id => $_->[1] } } [1, '7'], [2, '-7'], [3, '9007199254740991'], [4, '9007199254740992'], [5, '9007199254740993'],
       [6, '1'], [7, 'true'], [8, 'null'], [9, '9.00719925474e+15'], [10, '7.5'], [11, '["alice"]']],
   plugins => [main::keybound(consumer_claim => ['who']), $main::SEEN], main::routes(deep => [main::keybound(consumer_claim => ['act', 'who'])]) }
--- run
my $none = '403 consumer_not_found';
for (['alice', '200 alice user-1'], [7, '200 7 user-1'], ['7', '200 7 user-1'], [-7, '200 -7 user-1'], [9007199254740991, '200 9007199254740991 user-1'],
     [9007199254740992, $none], [9007199254740993, $none], ['9007199254740993', '200 9007199254740993 user-1'], [7.5, $none], [$true, $none], [undef, $none], ['', $none], [['alice'], $none],
     [{ who => 'alice' }, $none], ['ALICE', $none], ['alice ', $none], ['alice,', $none]) {
    my ($value, $expected) = @$_;
    is(of({ who => $value }), $expected, json([$value]));
    is(of({ act => { who => $value } }, path => '/deep/'), $expected, 'deep: ' . json([$value]));
}
is(of($_, path => '/deep/'), $none, 'no such path: ' . json($_)) for {}, { who => 'alice' }, { act => 'alice' }, { act => ['alice'] }, { act => undef }, { act => 7 }, { act => [{ who => 'alice' }] };
is(of({}), $none, 'no claim');
--- no_error_log
[error]

=== TEST 2: a token without consumer is 403: there is no better token to ask for, so no challenge
--- realm: here
--- kong eval: +{ consumers => [main::consumer('user-1')], plugins => [main::keybound(consumer_claim => ['sub'], realm => 'here')] }
--- tokens eval: +{ nobody => { for => 'client', claims => { sub => 'nobody' } } }
--- calls
client bound  -> 200
client nobody -> 403 - consumer_not_found
client nobody h2 method=POST data=x -> 403 - consumer_not_found
client bound  -> 200
thief  nobody -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 3: with consumer_optional it passes without one
--- listener: optional_no_ca
--- kong eval: +{ consumers => [main::consumer('alice')], plugins => [main::keybound(consumer_claim => ['sub'], consumer_optional => $main::true), $main::SEEN] }
--- run
is(of({ sub => 'nobody' }), '200 - nobody', 'no consumer');
is(of({ sub => 'alice' }), '200 alice alice', 'a consumer');
is(who(token => 'bound', cert => 'thief'), '401 certificate_mismatch', 'not its own');
kong_reload({ consumers => [consumer('alice')], plugins => [keybound(consumer_claim => ['sub']), $SEEN] });
is(of({ sub => 'nobody' }), '403 consumer_not_found', 'without it');
--- no_error_log
[error]

=== TEST 4: by what a consumer is named, and in this order
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('x'), main::consumer('custom', custom_id => 'x'), main::consumer(main::id('x'), id => main::id('like')), main::consumer('other', custom_id => main::id('custom')), main::consumer(main::id('ghost'))],
   plugins => [$main::SEEN], main::routes(anonymous => [main::keybound(anonymous => main::id('ghost'))], default => [main::keybound(consumer_claim => ['sub'])],
       map { $_ => [main::keybound(consumer_claim => ['sub'], consumer_by => [split /-/])] } qw(id username custom_id username-custom_id custom_id-username id-username username-id custom_id-id-username)) }
--- run
sub by { my ($by, $sub) = @_; return of({ sub => $sub }, path => "/$by/") =~ s/ \Q$sub\E$//r }
my ($x, $custom) = (id('x'), id('custom'));
# What x, the id of x, and the id of custom name.
my %expected = (
    default => ['x', $x, 'other'], 'username-custom_id' => ['x', $x, 'other'], 'custom_id-username' => ['custom', $x, 'other'],
    id => ['', 'x', 'custom'], username => ['x', $x, ''], custom_id => ['custom', '', 'other'],
    'id-username' => ['x', 'x', 'custom'], 'username-id' => ['x', $x, 'custom'], 'custom_id-id-username' => ['custom', 'x', 'other'],
);
for my $by (sort keys %expected) {
    # Twice: what is remembered is not mixed up, either.
    for my $round (1, 2) {
        is(join(',', map { by($by, $_) } 'x', $x, $custom), join(',', map { length $_ ? "200 $_" : '403 consumer_not_found' } @{ $expected{$by} }), "$by, round $round");
    }
}
is(by('id', $_), '403 consumer_not_found', 'more than an id') for "${x}0", "0$x";
my $ghost = id('ghost');
for my $round (1, 2) {
    is(join(',', map { by($_, $ghost) } qw(id username)), "403 consumer_not_found,200 $ghost", "a username like an id, round $round");
    is(who(path => '/anonymous/'), "200 $ghost -", 'which is anonymous somewhere');
}
--- no_error_log
[error]

=== TEST 5: of requests that come together each has its own consumer
--- listener: optional_no_ca
--- kong eval
+{ consumers => [map { main::consumer("c$_") } 0 .. 7], plugins => [main::keybound(consumer_claim => ['sub']), $main::SEEN] }
--- tokens eval: +{ map { ("c$_" => { for => 'client', claims => { sub => "c$_" } }) } 0 .. 9 }
--- run
my @order = map { ($_ * 7) % 10 } 0 .. 39;
my @responses = calls_on_one_connection(map { { cert => 'client', token => "c$_", h2 => 1 } } @order);
my @got = map { $_->{status} == 200 ? upstream_saw($_, 'x-seen') =~ s/^.* (\w+) (\w+)$/$1 $2/r : $_->{status} } @responses;
is(join(',', @got), join(',', map { $_ < 8 ? "c$_ c$_" : 403 } @order), 'on one connection');
--- no_error_log
[error]

=== TEST 6: a consumer that is renamed, deleted or created is noticed
--- listener: optional_no_ca
--- kong eval: +{ consumers => [main::consumer('alice', custom_id => 'a-1')], plugins => [main::keybound(consumer_claim => ['sub']), $main::SEEN] }
--- run
sub consumers { my $errors = kong_reload({ consumers => [@_], plugins => [keybound(consumer_claim => ['sub']), $SEEN] }); die json($errors) if $errors }
sub names { return join ',', map { of({ sub => $_ }) =~ s/ \S+$//r } qw(alice alicia a-1) }
is(names(), '200 alice,403,200 alice', 'at first');
consumers(consumer('alicia', id => id('alice'), custom_id => 'a-1'));
is(names(), '403,200 alicia,200 alicia', 'renamed');
consumers(consumer('alicia', id => id('alice')), consumer('bob', custom_id => 'a-1'), consumer('alice', id => id('new')));
is(names(), '200 alice,200 alicia,200 bob', 'what it was called is another one now');
is(of({ sub => 'alice' }), '200 alice alice', 'with its own id');
consumers();
is(names(), '403,403,403', 'deleted');
--- no_error_log
[error]

=== TEST 7: also where Kong forgets of its cache no more than the consumer that changed
--- database
--- listener: optional_no_ca
--- kong eval: +{ consumers => [main::consumer('alice'), main::consumer('bob', custom_id => 'b-1'), main::consumer('carol')], plugins => [main::keybound(consumer_claim => ['sub']), $main::SEEN] }
--- run
sub named { return join ',', map { of({ sub => $_ }) =~ s/ \S+$//r } @_ }
is(named(qw(alice bob b-1 carol)), '200 alice,200 bob,200 bob,200 carol', 'at first');
kong_reload({ consumers => [consumer('alicia', id => id('alice')), consumer('bob', custom_id => 'b-2'), consumer('alice', id => id('new'))], plugins => [keybound(consumer_claim => ['sub']), $SEEN] });
is(named(qw(alice b-1 carol)), '200 alice,403,403', 'taken by another, gone, deleted: not who had the name before');
define(moved => { for => 'client', claims => { sub => 'alice' } });
is(upstream_saw(call(cert => 'client', token => 'moved'), 'x-consumer-id'), 'x-consumer-id: ' . id('new'), 'but who has it now');
is(named(qw(bob alicia b-2)), '200 bob,200 alicia,200 bob', 'who is there');
--- no_error_log
[error]

=== TEST 8: where Kong cannot look a consumer up nobody passes, and it is looked up again
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('alice', custom_id => 'a-1'), map { main::consumer($_) } qw(bob guest known)], plugins => [{ name => 'probe', config => { %{ $main::SEEN->{config} }, rewrite => <<'EOL' } }],
local consumers = kong.db.consumers
local original = rawget(_G, "original") or { consumers.select, consumers.select_by_username, consumers.select_by_custom_id }
rawset(_G, "original", original)
for i, name in ipairs({ "select", "select_by_username", "select_by_custom_id" }) do
    consumers[name] = kong.request.get_header("x-away") == name and function() return nil, "the database is away" end or original[i]
end
EOL
   main::routes(plain => [main::keybound(consumer_claim => ['sub'], consumer_by => ['id', 'username', 'custom_id'])], optional => [main::keybound(consumer_claim => ['sub'], consumer_optional => $main::true)],
       anonymous => [main::keybound(anonymous => 'guest', consumer_claim => ['sub'])]) }
--- run
my $id = id('bob');
sub away { my ($function, $sub, $path) = @_; return of({ sub => $sub }, path => $path, headers => ["X-Away: $function"]) }
is(away('none', 'known', $_), '200 known known', "$_: there") for qw(/plain/ /optional/ /anonymous/);
for (['select_by_username', 'alice'], ['select_by_custom_id', 'a-1'], ['select', $id]) {
    my ($function, $sub) = @$_;
    for my $path (qw(/plain/ /optional/ /anonymous/)) {
        next if $sub eq $id && $path ne '/plain/';
        is(away($function, $sub, $path), '500', "$path: $function fails");
        is(away($function, 'known', $path), '200 known known', "$path: who is known passes");
    }
    is(away('none', $sub, '/plain/'), '200 ' . ($sub eq $id ? 'bob' : 'alice') . " $sub", "$function works again");
}
my $response = call(cert => 'client', token => 'bound', path => '/optional/', headers => ['X-Away: select_by_username']);
is("$response->{status} $response->{body}", '500 {"message":"An unexpected error occurred"}', 'the client is told nothing of it');
is(who(path => '/anonymous/', headers => ["X-Away: $_->[0]"]), $_->[1], "the anonymous consumer: $_->[0]") for ['select_by_username', '500'], ['none', '200 guest -'], ['select_by_username', '200 guest -'];
--- error_log
the database is away
--- no_error_log
[alert]

=== TEST 9: the credential is what a claim says, sub if nothing else is said, else the consumer itself
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('alice')], plugins => [$main::SEEN], main::routes(default => [main::keybound()], consumer => [main::keybound(consumer_claim => ['sub'])],
    map { my ($name, @path) = split / /; ($name => [main::keybound(credential_claim => [@path])], "$name-consumer" => [main::keybound(credential_claim => [@path], consumer_claim => ['sub'])]) } 'jti jti', 'deep act sub') }
--- run
is(of({ sub => 'bob' }, path => '/default/'), '200 - bob', 'sub');
is(of({ sub => 'alice' }, path => '/consumer/'), '200 alice alice', 'sub, with a consumer');
is(of({ jti => 'j-1' }, path => '/jti/'), '200 - j-1', 'another one');
is(of({ sub => 'alice', jti => 'j-1' }, path => '/jti-consumer/'), '200 alice j-1', 'another one, with a consumer');
is(of({ act => { sub => 7 } }, path => '/deep/'), '200 - 7', 'an integer, at a path');
for ({}, { act => { sub => '' } }, { act => { sub => ['a'] } }, { act => { sub => 7.5 } }, { act => { sub => 9007199254740993 } }, { act => 'x' }) {
    is(of($_, path => '/deep/'), '200 - -', 'none, no consumer: ' . json($_));
    is(of({ sub => 'alice', %$_ }, path => '/deep-consumer/'), '200 alice ' . id('alice'), 'none: ' . json($_));
}
--- no_error_log
[error]

=== TEST 10: acl decides by the groups of the token where there is no consumer
--- listener: optional_no_ca
--- kong eval
+{ plugins => [{ name => 'acl-probe', config => { allow => ['staff'] } }], main::routes(groups => [main::keybound(authenticated_groups_claim => ['groups'])],
    deep => [main::keybound(authenticated_groups_claim => ['realm', 'groups'])], none => [main::keybound()]) }
--- run
for ([['staff'], 200], [['a', 'staff'], 200], ['staff', 200], ['a staff b', 200], ['  staff ', 200], [['staffs'], 403], ['staffs', 403], ['a,staff', 403], [['a staff'], 403], [[['staff']], 403],
     [undef, 403], [[], 403], ['', 403], [{ staff => 1 }, 403], [7, 403], [[7, undef, 'a'], 403]) {
    my ($value, $expected) = @$_;
    define(t => { for => 'client', claims => { groups => $value } }, u => { for => 'client', claims => { realm => { groups => $value } } });
    is(call(cert => 'client', token => 't', path => '/groups/')->{status}, $expected, json([$value]));
    is(call(cert => 'client', token => 'u', path => '/deep/')->{status}, $expected, 'at a path: ' . json([$value]));
}
is(call(cert => 'client', token => 'bound', path => "/$_/")->{status}, 403, "$_: no claim") for qw(groups deep);
define(t => { for => 'client', claims => { groups => ['staff'] } });
is(call(cert => 'client', token => 't', path => '/none/')->{status}, 403, 'a claim that is not configured');
is(call(cert => 'thief', token => 't', path => '/groups/')->{status}, 401, 'of a token that is not its own');
--- no_error_log
[error]

=== TEST 11: acl decides by the groups of the consumer that keybound found
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('alice', acls => [{ group => 'staff' }]), main::consumer('bob', acls => [{ group => 'others' }]), main::consumer('guest', acls => [{ group => 'guests' }])],
   plugins => [{ name => 'acl-probe', config => { allow => ['staff'] } }, main::keybound(consumer_claim => ['sub'], consumer_optional => $main::true, anonymous => 'guest', authenticated_groups_claim => ['groups'])],
   main::routes(guests => [{ name => 'acl-probe', config => { allow => ['guests'] } }]) }
--- run
sub status_of { my ($claims, %call) = @_; define(t => { for => 'client', claims => $claims }); return call(cert => 'client', token => 't', %call)->{status} }
is(status_of({ sub => 'alice' }), 200, 'of the group');
is(status_of({ sub => 'bob' }), 403, 'of another one');
is(status_of({ sub => 'bob', groups => ['staff'] }), 403, 'the groups of a token are not those of its consumer');
is(status_of({ sub => 'carol', groups => ['staff'] }), 200, 'but those of who is no consumer');
is(status_of({ sub => 'carol' }), 403, 'no groups');
is(call(path => $_->[0])->{status}, $_->[1], "anonymous, $_->[0]") for ['/', 403], ['/guests/', 200];
is(status_of({ sub => 'alice' }, path => '/guests/'), 403, 'who is somebody is not anonymous');
--- no_error_log
[error]

=== TEST 12: without a token, or with a bad one, a request passes as anonymous where that is configured
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('guest', custom_id => 'g-1'), main::consumer('user-1')], plugins => [main::keybound(anonymous => 'guest', consumer_claim => ['sub']), $main::SEEN],
   main::routes(id => [main::keybound(anonymous => main::id('guest'))], never => [main::keybound()]) }
--- run
for (['-', 'no_token'], ['junk', 'token_not_jwt'], ['expired', 'token_expired'], ['forged', 'signature_invalid'], ['other_audience', 'audience_mismatch']) {
    my ($token, $reason) = @$_;
    is(who(token => $token), '200 guest -', $token);
    like(log_since(), qr/\[keybound\] anonymous, reason=$reason, token=/, "$token: the log tells why");
    is(who(token => $token, path => '/id/'), '200 guest -', "$token: by id");
    is(who(token => $token, path => '/never/'), "401 $reason", "$token: not configured");
}
is(who(authorization => 'Basic YTpi'), '200 guest -', 'another scheme');
is(who(token => 'bound'), '200 user-1 user-1', 'a good token');
--- no_error_log
[error]

=== TEST 13: who does not prove that the token is its own does not pass as anonymous, unless that is configured by name
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('guest')], plugins => [main::keybound(anonymous => 'guest'), $main::SEEN], main::routes(even => [main::keybound(anonymous => 'guest', anonymous_on_failed_binding => $main::true)]) }
--- tokens eval
+{ jkt => { claims => { cnf => { jkt => main::thumbprint('client') } } }, malformed => { claims => { cnf => { 'x5t#S256' => 'x' } } }, both => { for => 'client', claims => { cnf => { 'x5t#S256' => main::thumbprint('client'), jkt => main::thumbprint('client') } } } }
--- run
for (['bound', '-', 'certificate_missing'], ['bound', 'thief', 'certificate_mismatch'], ['unbound', 'client', 'token_unbound'], ['unbound', '-', 'token_unbound'], ['malformed', 'client', 'confirmation_malformed'],
     ['jkt', 'client', 'confirmation_unsupported'], ['both', 'client', 'confirmation_unsupported']) {
    my ($token, $cert, $reason) = @$_;
    is(who(token => $token, cert => $cert), "401 $reason", "$token, $cert");
    is(who(token => $token, cert => $cert, path => '/even/'), '200 guest -', "$token, $cert, anonymous_on_failed_binding");
}
is(who(token => 'bound'), '200 - user-1', 'its own');
is(who(), '200 guest -', 'no token');
--- no_error_log
[error]

=== TEST 14: nor does what is not 401
--- listener: optional_no_ca
--- kong eval
my @anonymous = (anonymous => 'guest', anonymous_on_failed_binding => $main::true);
+{ consumers => [main::consumer('guest')], plugins => [main::keybound(@anonymous), $main::SEEN], main::routes(scope => [main::keybound(@anonymous, scopes_required => ['write'])],
    consumer => [main::keybound(@anonymous, consumer_claim => ['sub'])], away => [main::keybound(@anonymous, jwks => undef, jwks_uri => 'https://localhost:1/jwks', ssl_trusted_certificate => '$PKI/ca.crt')]) }
--- http_config
ssl_session_cache shared:tls:1m;
--- tls
ssl_early_data on;
add_header X-Early $ssl_early_data always;
--- run
my $bearer = 'Bearer ' . named_token('bound');
is(who(token => 'bound', headers => ['DPoP: a', 'DPoP: b']), '400 duplicate_header', 'a second DPoP header');
is(who(token => 'bound', path => '/?access_token=x'), '400 several_tokens', 'a second token');
is(who(authorization => "$bearer x"), '400 malformed_authorization', 'more than a token');
is(who(token => 'bound', path => '/scope/'), '403 insufficient_scope', 'scope');
is(who(token => 'bound', path => '/consumer/'), '403 consumer_not_found', 'consumer');
is(who(token => 'bound', path => '/away/'), '503 keys_unavailable', 'keys');
is(who(token => 'forged'), '200 guest -', 'twin: 401');
is(who(path => "/$_/"), '200 guest -', "twin: 401, $_") for qw(scope consumer away);
my ($session, $response) = "$RUN/early-session";
for (1 .. 30) {
    s_client(tls => '1.3', token => 'bound', cert => 'client', save => $session);
    log_mark();
    $response = s_client(tls => '1.3', token => 'bound', resume => $session, early => 1);
    last if header($response, 'X-Early');
}
is(join(' ', header($response, 'X-Early'), $response->{status}, reasons()), '1 425 425 early_data', 'early data');

=== TEST 15: who an earlier plugin found stays it where the token is missing or bad and anonymous is set, and not with a stolen one
--- listener: optional_no_ca
--- kong eval
+{ consumers => [map { main::consumer($_) } qw(alice guest visitor user-1)], plugins => [$main::KEY_AUTH, $main::SEEN], main::routes(anonymous => [main::keybound(anonymous => 'guest')],
    even => [main::keybound(anonymous => 'guest', anonymous_on_failed_binding => $main::true)], strict => [main::keybound()]) }
--- run
my $alice = '200 alice ' . id('alice');
sub ways { my %call = @_; return join ', ', map { who(%call, path => "/$_/") } qw(anonymous even strict) }
is(ways(key('alice')), "$alice, $alice, 401 no_token", 'no token');
is(ways(key('alice'), token => 'expired'), "$alice, $alice, 401 token_expired", 'a bad one');
is(ways(key('alice'), token => 'bound', cert => 'thief'), "401 certificate_mismatch, $alice, 401 certificate_mismatch", 'a stolen one');
is(ways(key('alice'), token => 'bound', cert => '-'), "401 certificate_missing, $alice, 401 certificate_missing", 'a stolen one, without certificate');
is(ways(), '200 guest -, 200 guest -, 401 no_token', 'who is nobody to it, either, is ours');
is(ways(key('wrong')), '200 guest -, 200 guest -, 401 no_token', 'or has a wrong key');
--- no_error_log
[error]

=== TEST 16: a valid token replaces the consumer of an earlier plugin; where it has none of its own only the anonymous one
--- listener: optional_no_ca
--- kong eval
+{ consumers => [map { main::consumer($_) } qw(alice visitor user-1)], plugins => [$main::KEY_AUTH, $main::SEEN], main::routes(consumer => [main::keybound(consumer_claim => ['sub'])],
    none => [main::keybound()], optional => [main::keybound(consumer_claim => ['sub'], consumer_optional => $main::true)], reported => [main::keybound(report_only => $main::true)]) }
--- run
my $alice = '200 alice ' . id('alice');
is(who(key('alice'), token => 'bound', path => '/consumer/'), '200 user-1 user-1', 'a consumer');
is(of({ sub => 'nobody' }, key('alice'), path => '/consumer/'), '403 consumer_not_found', 'one that is not there is not made up for');
is(who(key('alice'), token => 'bound', path => '/none/'), $alice, 'no consumer');
is(of({ sub => 'nobody' }, key('alice'), path => '/optional/'), $alice, 'none found');
is(who(token => 'bound', path => '/none/'), '200 - user-1', 'no consumer, after an anonymous one');
is(of({ sub => 'nobody' }, path => '/optional/'), '200 - nobody', 'none found, after an anonymous one');
is(who(token => 'bound', path => '/consumer/'), '200 user-1 user-1', 'a consumer, after an anonymous one');
is(who(key('alice'), token => 'bound', cert => 'thief', path => '/reported/'), $alice, 'only reported: as if there were no plugin');
is(who(token => 'bound', cert => 'thief', path => '/reported/'), '200 visitor -', 'and of nobody');
--- no_error_log
[error]

=== TEST 17: an anonymous consumer that is not there lets nobody through
--- listener: optional_no_ca
--- kong eval: +{ consumers => [main::consumer('user-1')], plugins => [main::keybound(anonymous => 'guest'), $main::SEEN] }
--- run
my $reload = sub { kong_reload({ consumers => [consumer('user-1'), @_], plugins => [keybound(anonymous => 'guest'), $SEEN] }) };
sub three { return join ', ', map { who(@$_) } [], [token => 'expired'], [token => 'bound', cert => 'thief'], [token => 'bound'] }
is(three(), '500, 500, 401 certificate_mismatch, 200 - user-1', 'never there');
is(call()->{body}, '{"message":"An unexpected error occurred"}', 'the client is told nothing of it');
$reload->(consumer('guest'));
is(three(), '200 guest -, 200 guest -, 401 certificate_mismatch, 200 - user-1', 'there');
$reload->();
is(three(), '500, 500, 401 certificate_mismatch, 200 - user-1', 'deleted');
$reload->(consumer('other', custom_id => 'guest'));
is(three(), '500, 500, 401 certificate_mismatch, 200 - user-1', 'a custom_id is no name of it');
--- error_log
guest is not there

=== TEST 18: kong.ctx.shared.keybound tells later plugins what was decided
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('guest')], plugins => [{ name => 'probe', config => { access => 'kong.ctx.shared.before = kong.ctx.shared.keybound or false', header_filter => <<'EOL' } }],
local d, before = kong.ctx.shared.keybound, kong.ctx.shared.before
kong.response.set_header("X-Decision", d and table.concat({ tostring(d.allowed), d.reason, d.claims and d.claims.sub or "-", tostring(d.reported), tostring(d.binding) }, " ") or "none")
kong.response.set_header("X-Before", before == nil and "did not run" or before == (d or false) and "the same" or "other")
EOL
   main::routes(plain => [main::keybound()], anonymous => [main::keybound(anonymous => 'guest')], reported => [main::keybound(report_only => $main::true)], consumer => [main::keybound(consumer_claim => ['sub'])],
       'reported-consumer' => [main::keybound(consumer_claim => ['sub'], report_only => $main::true)], preflight => [main::keybound(run_on_preflight => $main::false)]) }
--- run
sub decision { my $r = call(cert => 'client', @_); return join ', ', map { scalar header($r, $_) } qw(X-Decision X-Before) }
is(decision(path => '/plain/', token => 'bound'), 'true allowed user-1 nil nil, the same', 'allowed');
is(decision(path => '/plain/', token => 'bound', cert => 'thief'), 'false certificate_mismatch - nil true, did not run', 'refused');
is(decision(path => '/anonymous/', token => 'expired'), 'false token_expired - nil false, the same', 'anonymous');
is(decision(path => '/reported/', token => 'bound', cert => 'thief'), 'true certificate_mismatch - true true, the same', 'reported');
is(decision(path => '/reported/', token => 'bound'), 'true allowed user-1 nil nil, the same', 'nothing to report');
is(decision(path => '/consumer/', token => 'bound'), 'false consumer_not_found - nil false, did not run', 'no consumer');
is(decision(path => '/reported-consumer/', token => 'bound'), 'true consumer_not_found - true false, the same', 'no consumer, reported');
is(decision(path => '/preflight/', method => 'OPTIONS', headers => ['Origin: https://a.test', 'Access-Control-Request-Method: PUT']), 'none, the same', 'preflight: nothing was decided');
is(decision(path => '/preflight/', method => 'OPTIONS', token => 'bound'), 'true allowed user-1 nil nil, the same', 'not every OPTIONS is one');
--- no_error_log
[error]

=== TEST 19: a name that no header can tell is no name
--- kong eval: +{ plugins => [$main::SEEN, main::keybound(consumer_optional => $main::true, consumer_claim => ['sub'])] }
--- listener: optional_no_ca
--- run
is(of({ sub => $_->[0] }), "200 - $_->[1]", $_->[1]) for ["a\r\nX-Evil: 1", '-'], ["a\tb", '-'], [' a', '-'], ['a ', '-'], ['a%0D%0Ab', 'a%0D%0Ab'], ['ab', 'ab'];
--- no_error_log
[error]

=== TEST 20: the anonymous consumer is forgotten when it goes, though Kong forgets by id
--- database
--- kong eval: +{ consumers => [main::consumer('guest')], plugins => [main::keybound(anonymous => 'guest'), $main::SEEN] }
--- listener: optional_no_ca
--- run
is(who(), '200 guest -', 'there');
kong_reload({ consumers => [consumer('other')], plugins => [keybound(anonymous => 'guest'), $SEEN] });
is(who(), '500', 'deleted');
--- error_log
guest is not there

=== TEST 21: what Kong remembers of a consumer may be older than its name: it is looked up again
--- listener: optional_no_ca
--- kong eval
+{ consumers => [main::consumer('alice')], plugins => [main::keybound(consumer_claim => ['sub']), { name => 'probe', config => { rewrite => <<'EOL' } }] }
local id = kong.request.get_header("x-renamed")
if id then
  local key = kong.db.consumers:cache_key(id)
  kong.cache:invalidate(key)
  kong.cache:get(key, nil, function() return { id = id, username = "before" } end)
end
EOL
--- run
define(alice => { for => 'client', claims => { sub => 'alice' } });
is(upstream_saw(call(cert => 'client', token => 'alice', headers => $_), 'x-consumer-username'), 'x-consumer-username: alice', 'each time') for ['X-Renamed: ' . id('alice')], [], ['X-Renamed: ' . id('alice')];
--- no_error_log
[error]
