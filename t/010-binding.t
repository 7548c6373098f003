# Proof of possession by certificate: every mode with every kind of token and certificate.
use Keybound;
use Binding;
use Test::Nginx::Socket 'no_plan';

# `--- matrix: MODE SOURCE TLS` stands for the engine, the tokens and the calls of that part of the table of Binding.pm.
add_block_preprocessor(sub {
    my ($block) = @_;
    my ($mode, $source, $tls) = split ' ', $block->matrix // return;
    set_matrix($block, $mode, "tls=$tls");
    $block->set_value(engine => <<"EOT");
        kb = engine({ proof_of_possession_mtls = "$mode" }, { certificate_source = "$source" })
EOT
});

run_tests();

__DATA__

=== TEST 1: 8705-3-b, 8705-3-f: strict, SSL object, TLS 1.3
--- matrix: strict ssl 1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 2: 8705-3-b, 8705-3-f: strict, SSL object, TLS 1.2
--- matrix: strict ssl 1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 3: 8705-3-b, 8705-3-f: strict, variable, TLS 1.3
--- matrix: strict variable 1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 4: 8705-3-b, 8705-3-f: strict, variable, TLS 1.2
--- matrix: strict variable 1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 5: 8705-3-e: optional, SSL object, TLS 1.3
--- matrix: optional ssl 1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 6: 8705-3-e: optional, SSL object, TLS 1.2
--- matrix: optional ssl 1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 7: 8705-3-e: optional, variable, TLS 1.3
--- matrix: optional variable 1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 8: 8705-3-e: optional, variable, TLS 1.2
--- matrix: optional variable 1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 9: off, SSL object, TLS 1.3: the token alone decides
--- matrix: off ssl 1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 10: off, SSL object, TLS 1.2: the token alone decides
--- matrix: off ssl 1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 11: off, variable, TLS 1.3: the token alone decides
--- matrix: off variable 1.3
--- no_error_log
[error]
[crit]
[alert]

=== TEST 12: off, variable, TLS 1.2: the token alone decides
--- matrix: off variable 1.2
--- no_error_log
[error]
[crit]
[alert]

=== TEST 13: strict is what holds where nothing is configured
--- engine
kb = engine()
--- calls
client bound   -> 200
client unbound -> 401 invalid_token token_unbound
-      bound   -> 401 invalid_token certificate_missing
--- no_error_log
[error]

=== TEST 14: 8705-3.1-a: only the exact member name binds
--- tokens eval
my $own = Keybound::thumbprint('client');
+{ map { ("name-$_" => { claims => { cnf => { $_ => $own } } }) } 'x5t#S256', 'x5t', 'x5t#s256', 'X5T#S256', 'x5t#S512', 'x5t#S256 ', 'kid', 'jwk' }
--- calls
client name-x5t#S256     -> 200
client name-x5t          -> 401 invalid_token confirmation_unsupported
client name-x5t#s256     -> 401 invalid_token confirmation_unsupported
client name-X5T#S256     -> 401 invalid_token confirmation_unsupported
client name-x5t#S512     -> 401 invalid_token confirmation_unsupported
client "name-x5t#S256 "  -> 401 invalid_token confirmation_unsupported
client name-kid          -> 401 invalid_token confirmation_unsupported
client name-jwk          -> 401 invalid_token confirmation_unsupported
--- no_error_log
[error]

=== TEST 15: 8705-3.1-b: only canonical base64url of 32 octets binds, in optional mode too
--- engine
kb = engine { proof_of_possession_mtls = "optional" }
--- tokens eval
my $own = Keybound::thumbprint('client');
(my $standard = $own) =~ tr{_-}{/+};
my %bits = map { substr('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', $_, 1) => $_ } 0 .. 63;
my $last = { CORE::reverse %bits }->{ $bits{ substr $own, -1 } | 1 };
my %values = (
    exact => $own, short => substr($own, 0, 42), long => "${own}A", padded => "$own=", space => "$own ", newline => "$own\n",
    folded => substr($own, 0, 20) . "\n" . substr($own, 20), bits => substr($own, 0, 42) . $last, upper => uc(substr $own, 0, 42) . substr($own, 42), none => '',
    hex => unpack('H*', MIME::Base64::decode_base64($standard)), number => 1, list => [$own], object => { x => $own },
    null => undef, true => JSON::PP::true,
);
+{ map { ($_ => { claims => { cnf => { 'x5t#S256' => $values{$_} } } }) } keys %values }
--- calls
client exact   -> 200
client short   -> 401 invalid_token confirmation_malformed
client long    -> 401 invalid_token confirmation_malformed
client padded  -> 401 invalid_token confirmation_malformed
client space   -> 401 invalid_token confirmation_malformed
client newline -> 401 invalid_token confirmation_malformed
client folded  -> 401 invalid_token confirmation_malformed
client bits    -> 401 invalid_token confirmation_malformed
client upper   -> 401 invalid_token certificate_mismatch
client none    -> 401 invalid_token confirmation_malformed
client hex     -> 401 invalid_token confirmation_malformed
client number  -> 401 invalid_token confirmation_malformed
client list    -> 401 invalid_token confirmation_malformed
client object  -> 401 invalid_token confirmation_malformed
client null    -> 401 invalid_token confirmation_malformed
client true    -> 401 invalid_token confirmation_malformed
--- no_error_log
[error]

=== TEST 16: 8705-3-b: every character of the thumbprint counts
--- tokens eval
my $own = Keybound::thumbprint('client');
my @letters = ('A' .. 'Z', 'a' .. 'z', 0 .. 9, '-', '_');
my %value = map { $letters[$_] => $_ } 0 .. 63;
# The last one holds four bits, and two that must be 0.
my $changed = sub { my ($at) = @_; my $x = $own; substr($x, $at, 1) = $letters[($value{ substr $x, $at, 1 } + 4) % 64]; $x };
+{ same => { claims => { cnf => { 'x5t#S256' => $own } } }, map { ("at-$_" => { claims => { cnf => { 'x5t#S256' => $changed->($_) } } }) } 0 .. 42 }
--- calls eval
CORE::join '', "client same -> 200\n", map { "client at-$_ -> 401 invalid_token certificate_mismatch\n" } 0 .. 42
--- no_error_log
[error]

=== TEST 17: 8705-3-f: a cnf that is no object binds nothing, in optional mode too
--- engine
kb = engine { proof_of_possession_mtls = "optional" }
--- tokens eval
my $own = Keybound::thumbprint('client');
+{ string => { claims => { cnf => $own } }, list => { claims => { cnf => [{ 'x5t#S256' => $own }] } },
   false => { claims => { cnf => JSON::PP::false } }, number => { claims => { cnf => 0 } },
   text => { claims => { cnf => qq({"x5t#S256":"$own"}) } }, nested => { claims => { cnf => { cnf => { 'x5t#S256' => $own } } } } }
--- calls
client bound  -> 200
client string -> 401 invalid_token confirmation_malformed
client list   -> 401 invalid_token confirmation_malformed
client false  -> 401 invalid_token confirmation_malformed
client number -> 401 invalid_token confirmation_malformed
client text   -> 401 invalid_token confirmation_malformed
client nested -> 401 invalid_token confirmation_unsupported
--- no_error_log
[error]

=== TEST 18: 8705-3-f: members beside cnf that look like it bind nothing
--- tokens eval
my $own = Keybound::thumbprint('client');
+{ dotted => { claims => { 'cnf.x5t#S256' => $own } }, top => { claims => { 'x5t#S256' => $own } },
   upper => { claims => { CNF => { 'x5t#S256' => $own } } }, header => { header => { cnf => { 'x5t#S256' => $own } } },
   'header-x5t' => { header => { 'x5t#S256' => $own } } }
--- calls
client bound      -> 200
client dotted     -> 401 invalid_token token_unbound
client top        -> 401 invalid_token token_unbound
client upper      -> 401 invalid_token token_unbound
client header     -> 401 invalid_token token_unbound
client header-x5t -> 401 invalid_token token_unbound
--- no_error_log
[error]

=== TEST 19: two cnf members, or two thumbprints in one: refused whichever comes first
--- tokens eval
my ($own, $other) = map { Keybound::thumbprint($_) } qw(client thief);
my $rest = sprintf '"iss":"https://as.test","aud":"https://api.test","sub":"u","client_id":"c","iat":%d,"exp":%d,"jti":"j"', time, time + 600;
my $cnf = sub { qq("cnf":{"x5t#S256":"$_[0]"}) };
my $in = sub { qq("cnf":{) . CORE::join(',', map { qq("x5t#S256":"$_") } @_) . '}' };
+{ map { $_->[0] => { payload => "{$rest,$_->[1]}" } }
   [one => $cnf->($own)], [first => $cnf->($own) . ',' . $cnf->($other)], [last => $cnf->($other) . ',' . $cnf->($own)],
   [same => $cnf->($own) . ',' . $cnf->($own)], [inside => $in->($own, $other)], ['inside-last' => $in->($other, $own)],
   [escaped => $cnf->($other) . qq(,"\\u0063nf":{"x5t#S256":"$own"})] }
--- calls
client one         -> 200
client first       -> 401 invalid_token claims_malformed
client last        -> 401 invalid_token claims_malformed
client same        -> 401 invalid_token claims_malformed
client inside      -> 401 invalid_token claims_malformed
client inside-last -> 401 invalid_token claims_malformed
client escaped     -> 401 invalid_token claims_malformed
--- no_error_log
[error]

=== TEST 20: 8705-3-g: a second member beside the right thumbprint is not ignored, in optional mode either
--- engine
kb = engine { proof_of_possession_mtls = "optional" }
--- tokens eval
my $own = Keybound::thumbprint('client');
+{ jkt => { claims => { cnf => { 'x5t#S256' => $own, jkt => $own } } }, null => { claims => { cnf => { 'x5t#S256' => $own, jkt => undef } } },
   unknown => { claims => { cnf => { 'x5t#S256' => $own, new => 1 } } } }
--- calls
client bound   -> 200
client jkt     -> 401 invalid_token confirmation_unsupported
client null    -> 401 invalid_token confirmation_malformed
client unknown -> 401 invalid_token confirmation_unsupported
--- no_error_log
[error]

=== TEST 21: 8705-3-b: the same subject with another key is another certificate
--- calls
client    for:client    -> 200
same-name for:client    -> 401 invalid_token certificate_mismatch
same-name for:same-name -> 200
--- no_error_log
[error]

=== TEST 22: 8705-3-b, 8705-6.3-a: a renewed certificate of the same key ends the old tokens
--- init
self_signed('renewed', '/CN=client', key => 'client')
--- calls
client  for:client  -> 200
renewed for:client  -> 401 invalid_token certificate_mismatch
renewed for:renewed -> 200
client  for:renewed -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 23: certificates of every key type, by a CA or by themselves, read through the SSL object
--- engine
kb = engine({}, { certificate_source = "ssl" })
--- calls
rsa         for:rsa         -> 200
ed25519     for:ed25519     -> 200
self-signed for:self-signed -> 200
thief       for:thief       -> 200
rsa         for:ed25519     -> 401 invalid_token certificate_mismatch
ed25519     for:self-signed -> 401 invalid_token certificate_mismatch
self-signed for:thief       -> 401 invalid_token certificate_mismatch
thief       for:rsa         -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 24: certificates of every key type, by a CA or by themselves, read from the variable
--- engine
kb = engine({}, { certificate_source = "variable" })
--- calls
rsa         for:rsa         -> 200
ed25519     for:ed25519     -> 200
self-signed for:self-signed -> 200
thief       for:thief       -> 200
rsa         for:ed25519     -> 401 invalid_token certificate_mismatch
ed25519     for:self-signed -> 401 invalid_token certificate_mismatch
self-signed for:thief       -> 401 invalid_token certificate_mismatch
thief       for:rsa         -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 25: 8705-3.1-c: the thumbprint of $ssl_client_raw_cert is the one that openssl computes
--- tls
location / {
    content_by_lua_block { ngx.print(require("resty.keybound").thumbprint(ngx.var.ssl_client_raw_cert)) }
}
--- run
for my $cert (qw(client rsa ed25519 self-signed expired)) {
    my $response = call(cert => $cert, path => '/');
    # nginx refuses an expired certificate by itself
    is($cert eq 'expired' ? $response->{status} : $response->{body}, $cert eq 'expired' ? 400 : thumbprint($cert), $cert);
}
--- no_error_log
[error]

=== TEST 26: a certificate of more than 16 KiB is refused, a large one passes; SSL object
--- init
self_signed('large', '/CN=large', names => 400);
self_signed('too-large', '/CN=too large', names => 600);
--- engine
kb = engine({}, { certificate_source = "ssl" })
--- calls
large     for:large     -> 200
large     bound         -> 401 invalid_token certificate_mismatch
too-large for:too-large -> 401 invalid_token certificate_malformed
too-large unbound       -> 401 invalid_token certificate_malformed
--- no_error_log
[error]

=== TEST 27: a certificate of more than 16 KiB is refused, a large one passes; variable
--- init
self_signed('large', '/CN=large', names => 400);
self_signed('too-large', '/CN=too large', names => 600);
--- engine
kb = engine({}, { certificate_source = "variable" })
--- calls
large     for:large     -> 200
large     bound         -> 401 invalid_token certificate_mismatch
too-large for:too-large -> 401 invalid_token certificate_malformed
too-large unbound       -> 401 invalid_token certificate_malformed
--- no_error_log
[error]

=== TEST 28: 8705-6.2-a: a chain that nginx verified is no substitute for the thumbprint
--- tls
ssl_verify_client on;
ssl_client_certificate $PKI/ca.crt;
--- calls
client bound     -> 200
rsa    bound     -> 401 invalid_token certificate_mismatch
rsa    for:rsa   -> 200
# nginx: not by this CA, and none
thief  for:thief -> 400 nginx
-      bound     -> 400 nginx
--- no_error_log
[error]

=== TEST 29: 8705-6.2-a: nor does the thumbprint need a chain
--- tls
ssl_verify_client optional_no_ca;
ssl_client_certificate $PKI/ca.crt;
--- calls
client      bound           -> 200
thief       for:thief       -> 200
self-signed for:self-signed -> 200
thief       bound           -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 30: 8705-3-d: a server that asks for no certificate: bound tokens are refused, nothing is negotiated again
--- tls
ssl_verify_client off;
--- calls
client bound tls=1.2   -> 401 invalid_token certificate_missing
client bound tls=1.3   -> 401 invalid_token certificate_missing
client unbound         -> 401 invalid_token token_unbound
--- no_error_log
[error]

=== TEST 31: 8705-3-d: optional mode there lets unbound tokens pass only
--- engine
kb = engine { proof_of_possession_mtls = "optional" }
--- tls
ssl_verify_client off;
--- calls
client unbound -> 200
client bound   -> 401 invalid_token certificate_missing
--- no_error_log
[error]

=== TEST 32: engines that read the certificate in different ways do not see each other's
--- engine
by_ssl = engine({}, { certificate_source = "ssl" })
by_variable = engine({}, { certificate_source = "variable" })
by_default = engine({})
--- tls
location /ssl { access_by_lua_block { by_ssl:access() } return 204; }
location /variable { access_by_lua_block { by_variable:access() } content_by_lua_block { ngx.say("passed") } }
location /both {
    access_by_lua_block { by_ssl:access() by_variable:access() by_default:access() by_variable:access() by_ssl:access() }
    content_by_lua_block { ngx.say("passed") }
}
location / { access_by_lua_block { by_ssl:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
client bound path=/variable -> 200
-      bound path=/         -> 401 invalid_token certificate_missing
thief  bound path=/         -> 401 invalid_token certificate_mismatch
client bound path=/         -> 200
-      bound path=/variable -> 401 invalid_token certificate_missing
thief  bound path=/variable -> 401 invalid_token certificate_mismatch
client bound path=/both     -> 200
-      bound path=/both     -> 401 invalid_token certificate_missing
thief  bound path=/both     -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 33: 9068-2.1-a: RS256 and ES256 tokens are bound alike
--- tokens eval
+{ 'rs256-unbound' => { key => 'rs256' }, 'rs256-thief' => { key => 'rs256', for => 'thief' } }
--- calls
client rs256         -> 200
client rs256-unbound -> 401 invalid_token token_unbound
client rs256-thief   -> 401 invalid_token certificate_mismatch
client bound         -> 200
client forged        -> 401 invalid_token signature_invalid
--- no_error_log
[error]
