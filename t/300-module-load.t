# The directives of the nginx module at load: what each takes, what it refuses and how it says so, which need which, and what one server says
# and another one inherits.
use Module;
use Test::Nginx::Socket 'no_plan';

master_on();

# A configuration that needs nothing besides it.
sub configured { return "keybound on;\nkeybound_config \$KB/kb.json;\n" }

# loads_where(NAME, LINES): these lines load in http, in a server and in a location
sub loads_where {
    my ($name, $lines) = @_;
    my @rest = grep { $lines !~ /^$_\s/m } qw(keybound keybound_config);
    my $rest = join '', map { { keybound => "keybound on;\n", keybound_config => "keybound_config \$KB/kb.json;\n" }->{$_} } @rest;
    loads("$name: http", "$rest$lines");
    loads("$name: server", '', "$rest$lines");
    loads("$name: location", '', '', "$rest$lines");
}

run_tests();

__DATA__

=== TEST 1: keybound is on, off or report, everywhere
--- run
loads_where("keybound $_", "keybound $_;\n") for qw(on off report);
refuses_to_load("keybound $_", qr/"keybound"/, '', '', "X keybound $_;\nkeybound_config \$KB/kb.json;\n") for qw(maybe 1 "");
refuses_to_load('none', qr/invalid number of arguments in "keybound" directive/, '', '', 'X keybound;');
refuses_to_load('two', qr/invalid number of arguments in "keybound" directive/, '', '', 'X keybound on off;');
refuses_to_load('twice', qr/"keybound" directive is duplicate/, '', '', "keybound on;\nX keybound on;\nkeybound_config \$KB/kb.json;");
refuses_to_load('outside of http', qr/"keybound" directive is not allowed here/, '', '', '', 'X keybound on;');
refuses_to_load('in an if', qr/"keybound" directive is not allowed here/, '', '', "if (\$arg_x) {\nX keybound on;\n}");

=== TEST 2: keybound_config is a file of JSON: what is wrong with it is said with the file and the option
--- run
loads('a path', '', '', configured());
refuses_to_load('no file', qr/absent\.json.*No such file/, '', '', "keybound on;\nX keybound_config \$KB/absent.json;");
refuses_to_load('a directory', qr/engines/, '', '', "keybound on;\nX keybound_config \$KB/;");
refuses_to_load('none', qr/invalid number of arguments in "keybound_config" directive/, '', '', 'X keybound_config;');
refuses_to_load('twice', qr/"keybound_config" directive is duplicate/, '', '', "keybound_config \$KB/kb.json;\nX keybound_config \$KB/kb.json;");
for ([ 'no JSON', '{"issuer"', qr/JSON/i ], [ 'empty', '', qr/bad\.json/ ], [ 'no object', '[]', qr/bad\.json/ ],
     [ 'an unknown option', '{"issuer":"https://as.test","colour":"red"}', qr/colour/ ],
     [ 'a wrong type', json({ %Keybound::DEFAULTS, leeway => 'much' }), qr/leeway/ ],
     [ 'a value out of range', json({ %Keybound::DEFAULTS, leeway => 61 }), qr/leeway/ ],
     [ 'a wrong mode', json({ %Keybound::DEFAULTS, proof_of_possession_mtls => 'maybe' }), qr/proof_of_possession_mtls: must be strict, optional or off/ ],
     [ 'no issuer', json({ audience_required => ['x'], jwks => $Keybound::DEFAULTS{jwks} }), qr/issuer/ ],
     [ 'a NUL', "{\"issuer\":\"https://as.test\0\"}", qr/bad\.json/ ]) {
    my ($name, $content, $pattern) = @$_;
    write_file("$RUN/engines/bad.json", $content);
    refuses_to_load($name, $pattern, '', '', "keybound on;\nX keybound_config \$KB/bad.json;");
}
write_file("$RUN/engines/bad.json", json(\%Keybound::DEFAULTS));
loads('the same file, when it is right', '', '', "keybound on;\nkeybound_config \$KB/bad.json;");

=== TEST 3: the file is relative to the directory of nginx's configuration
--- run
mkdir "$RUN/configtest";
write_file("$RUN/configtest/own.json", json(\%Keybound::DEFAULTS));
loads('beside nginx.conf', '', '', "keybound on;\nkeybound_config own.json;");
unlink "$RUN/configtest/own.json";
refuses_to_load('not there', qr{\Q$RUN/configtest/own.json\E}, '', '', "keybound on;\nX keybound_config own.json;");

=== TEST 4: keybound on and report need a keybound_config, off does not
--- run
for my $mode (qw(on report)) {
    refuses_to_load("$mode: $_->[0]", qr/keybound_config/, @{ $_->[1] })
        for [ 'location', [ '', '', "keybound $mode;" ] ], [ 'server', [ '', "keybound $mode;" ] ], [ 'http', [ "keybound $mode;" ] ];
    loads("$mode: of the server", '', "keybound_config \$KB/kb.json;", "keybound $mode;");
}
loads('off', '', '', 'keybound off;');
loads('a file that nobody uses', '', '', 'keybound_config $KB/kb.json;');

=== TEST 5: keybound_mode is strict, optional or off, everywhere, and is held to the rest as in the file
--- run
loads_where("keybound_mode $_", "keybound_mode $_;\n") for qw(strict optional off);
refuses_to_load("keybound_mode $_", qr/keybound_mode|proof_of_possession_mtls/, '', '', configured() . "X keybound_mode $_;") for qw(maybe on "");
refuses_to_load('two', qr/invalid number of arguments in "keybound_mode" directive/, '', '', configured() . 'X keybound_mode strict off;');
refuses_to_load('twice', qr/"keybound_mode" directive is duplicate/, '', '', configured() . "keybound_mode strict;\nX keybound_mode off;");

=== TEST 6: keybound_scope and keybound_audience take one value or more, keybound_realm one; each once
--- run
loads_where("keybound_$_ with one value", "keybound_$_ one;\n") for qw(scope audience realm);
loads_where("keybound_$_ with two values", "keybound_$_ one 'two three';\n") for qw(scope audience);
refuses_to_load("keybound_$_ without one", qr/invalid number of arguments in "keybound_$_" directive/, '', '', configured() . "X keybound_$_;") for qw(scope audience realm);
refuses_to_load('two realms', qr/invalid number of arguments in "keybound_realm" directive/, '', '', configured() . 'X keybound_realm one two;');
refuses_to_load("keybound_$_ twice", qr/"keybound_$_" directive is duplicate/, '', '', configured() . "keybound_$_ one;\nX keybound_$_ two;") for qw(scope audience realm);
refuses_to_load("keybound_$_ empty", qr/scopes_required|audience_required/, '', '', "keybound on;\nX keybound_config \$KB/kb.json;\nkeybound_$_ '';") for qw(scope audience);
refuses_to_load('a realm with a line end', qr/realm/, '', '', "keybound on;\nX keybound_config \$KB/kb.json;\nkeybound_realm 'a\\nb';");

=== TEST 7: a setting may stand in for an option that the file leaves out
--- run
my %file = %Keybound::DEFAULTS;
delete $file{audience_required};
write_file("$RUN/engines/open.json", json(\%file));
refuses_to_load('no audience', qr/audience_required/, '', '', "keybound on;\nX keybound_config \$KB/open.json;");
loads('keybound_audience', '', '', "keybound on;\nkeybound_config \$KB/open.json;\nkeybound_audience https://api.test;");

=== TEST 8: keybound_zone has a size once, which is not too small, and its name alone refers to it
--- run
my $on = configured();
loads('a size', "keybound_zone kb 1m;\n$on");
loads('the name alone, in a server', "keybound_zone kb 1m;", "keybound_zone kb;\n$on");
loads('the name alone, in a location', "keybound_zone kb 1m;", '', "keybound_zone kb;\n$on");
loads('the size in a location', '', '', "keybound_zone kb 1m;\n$on");
loads('two zones', "keybound_zone one 1m;", "keybound_zone two 1m;\n$on");
loads('the name before the size', "keybound_zone kb;\n$on", "keybound_zone kb 1m;");
refuses_to_load('no size at all', qr/"kb"/, "keybound_zone kb;\n$on");
refuses_to_load('too small', qr/keybound_zone|too small/, "X keybound_zone kb 4k;\n$on");
refuses_to_load("the size $_", qr/keybound_zone|size/, "X keybound_zone kb $_;\n$on") for qw(big -1 1x 0);
refuses_to_load('another size', qr/"kb"/, "keybound_zone kb 1m;", "X keybound_zone kb 2m;\n$on");
refuses_to_load('no name', qr/invalid number of arguments in "keybound_zone" directive/, "X keybound_zone;");
refuses_to_load('twice', qr/"keybound_zone" directive is duplicate/, "keybound_zone kb 1m;\nX keybound_zone two 1m;\n$on");
refuses_to_load('a name of another module', qr/"kb"/, "keybound_zone kb 1m;\nX limit_req_zone \$uri zone=kb:2m rate=1r/s;\n$on");

=== TEST 9: keybound_fetch has a location, and a certificate of the file at most; each once
--- engine
kb:
tls: tls
--- run
my $location = "location = /_as { \$FETCH }\nlocation = /_gateway { \$FETCH }\n";
my $tls = "keybound on;\nkeybound_config \$KB/tls.json;\n";
loads('both', '', "${tls}keybound_fetch /_as;\nkeybound_fetch /_gateway gateway;\n$location");
loads('inherited', "keybound_fetch /_as;\nkeybound_fetch /_gateway gateway;\n", "$tls$location");
refuses_to_load('none', qr/keybound_fetch/, '', "$tls$location");
refuses_to_load('none for the certificate', qr/gateway/, '', "${tls}keybound_fetch /_as;\n$location");
refuses_to_load('none for requests without one', qr/keybound_fetch/, '', "${tls}keybound_fetch /_gateway gateway;\n$location");
refuses_to_load('twice', qr/keybound_fetch/, '', "${tls}keybound_fetch /_as;\nX keybound_fetch /_gateway;\n$location");
refuses_to_load('twice for a certificate', qr/keybound_fetch/, '', "${tls}keybound_fetch /_as;\nkeybound_fetch /_gateway gateway;\nX keybound_fetch /_as gateway;\n$location");
refuses_to_load('no arguments', qr/invalid number of arguments in "keybound_fetch" directive/, '', "X keybound_fetch;");
refuses_to_load('three', qr/invalid number of arguments in "keybound_fetch" directive/, '', "X keybound_fetch /_as gateway more;");
refuses_to_load('no path', qr/keybound_fetch/, '', "X keybound_fetch as;\n$tls$location");

=== TEST 10: an engine that asks nobody needs no location
--- engine
kb:
keys: keys
--- run
loads('keys in the file', '', '', configured());
refuses_to_load('keys that are fetched', qr/keybound_fetch/, '', '', "keybound on;\nkeybound_config \$KB/keys.json;");
loads('keys that are fetched, from somewhere', '', "keybound_fetch /_as;\nlocation = /_as { \$FETCH }", "keybound on;\nkeybound_config \$KB/keys.json;");
loads('off', '', '', "keybound off;\nkeybound_config \$KB/keys.json;");

=== TEST 11: keybound_metrics is of a location, has no arguments, and needs a zone
--- run
loads('with a zone', 'keybound_zone kb 1m;', configured(), 'keybound off; keybound_metrics;');
refuses_to_load('without one', qr/keybound_metrics|keybound_zone/, '', configured(), 'keybound off; keybound_metrics;');
refuses_to_load('an argument', qr/invalid number of arguments in "keybound_metrics" directive/, 'keybound_zone kb 1m;', '', 'X keybound_metrics kb;');

=== TEST 12: logins need a zone that the workers share
--- engine
kb:
web: web { "session_storage": "store" }
--- http_config
keybound_zone kb 1m;
--- run
my $web = "keybound on;\nkeybound_config \$KB/web.json;\nkeybound_fetch /_as;\nkeybound_fetch /_web web;\n";
refuses_to_load('none', qr/store_secret/, '', $web);
loads('one', 'keybound_zone kb 1m;', $web);

=== TEST 13: the variables are known where keybound is nowhere on; another name of the kind is not
--- run
loads('all of them', 'log_format kb "$keybound_decision $keybound_reason $keybound_subject $keybound_client_id $keybound_scope $keybound_thumbprint $keybound_claim_email '
    . '$keybound_fetch_url $keybound_fetch_host $keybound_fetch_uri";');
refuses_to_load('another one', qr/unknown "keybound_nothing" variable/, 'log_format kb "$keybound_nothing";');
refuses_to_load('one that is set', qr/keybound_subject/, '', 'X set $keybound_subject root;');

=== TEST 14: what a configuration warns of is in the log at load, and it loads
--- run
write_file("$RUN/engines/warns.json", json({ %Keybound::DEFAULTS, jwks => { keys => [ @{ $Keybound::DEFAULTS{jwks}{keys} }, { kty => 'oct', k => 'c2VjcmV0', kid => 'own' } ] } }));
my ($status, $said) = configtest('', '', "keybound on;\nkeybound_config \$KB/warns.json;");
is($status, 0, 'loads');
like($said, qr/\[warn\].*warns\.json" in \S+nginx\.conf:\d+: key 2 \(kid "own"\) skipped/, 'and warns of the key that is skipped');
unlike(loads('the twin', '', '', configured()), qr/\[warn\].*keybound/, 'which has none, does not');

=== TEST 15: the module needs no certificate of the client to load: over plain HTTP a bound token is refused
--- config
location / { keybound on; keybound_config $KB/kb.json; $PROXY; }
location /optional { keybound on; keybound_config $KB/kb.json; keybound_mode optional; $PROXY; }
--- calls
- bound   plain -> 401 invalid_token certificate_missing
- unbound plain -> 401 invalid_token token_unbound
- bound   plain path=/optional -> 401 invalid_token certificate_missing
- unbound plain path=/optional -> 200
--- no_error_log
[error]
