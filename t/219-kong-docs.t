# What docs/proof-of-possession.md and docs/logins.md have for Kong, as it is on the pages: only hosts, certificates and secrets are filled in.
# What they have for OpenResty is tested by nginx-test/docs.sh.

use Kong;
use Keybound ();
use Test::Nginx::Socket 'no_plan';
use YAML::PP;

# What the references of the pages stand for
$ENV{"\U${_}_KEY"} = Keybound::read_file("$Keybound::PKI/$_.key") for qw(gateway web);
$ENV{SESSION_SECRET} = 'a secret of the test, which is long enough';

# The configuration of a page, with that certificate
sub page {
    my ($name, $certificate) = @_;
    my ($yaml) = Keybound::read_file("$Keybound::ROOT/docs/$name") =~ /^```yaml\n(.*?)^```$/ms or die "docs/$name has no YAML\n";
    $yaml =~ s{https://as\.example\.com}{\$AS}g;
    $yaml =~ s{(?:api|app)\.example\.com}{api.test}g;
    my $config = YAML::PP->new(boolean => 'JSON::PP')->load_string($yaml);
    $config->{certificates}[0]{cert} = Keybound::read_file("$Keybound::PKI/$certificate.crt");
    return $config;
}

sub asked_by {
    my ($name) = @_;
    return join '|', map { join ' ', $_->{path}, $_->{grant_type} // $_->{token_type_hint} // '', $_->{port}, $_->{client_id} }
        grep { ($_->{certificate}{subject} // '') eq "CN=$name" } @{ Keybound::as_log() };
}

# Status and reason of the last answer that was keybound's
sub outcome { return join ' ', $_[0]{status}, (log_since() =~ /keybound\] \w+, reason=(\w+)/g)[-1] // '-' }

run_tests();

__DATA__

=== TEST 1: docs/proof-of-possession.md
--- listener: optional_no_ca
--- http_config eval: "lua_ssl_trusted_certificate $Keybound::PKI/ca.crt; lua_ssl_verify_depth 1;\n"
--- kong eval
main::page('proof-of-possession.md', 'gateway')
--- run
as_control('/log/clear');
for my $token (qw(as:client opaque:client)) {
    my %call = (path => '/orders', token => $token);
    for my $case (['client', '200 -'], ['-', '401 certificate_missing'], ['thief', '401 certificate_mismatch']) {
        log_mark();
        is(outcome(call(%call, cert => $case->[0])), $case->[1], "$token, $case->[0]");
    }
    my ($cookie) = map { /^(__Host-session=[^;]+)/ ? $1 : () } header(call(%call, cert => 'client'), 'set-cookie');
    ok($cookie, "$token: a session begins");
    for my $case (['client', '200 -'], ['-', '401 session_certificate_missing'], ['thief', '401 session_certificate_mismatch']) {
        log_mark();
        is(outcome(call(path => '/orders', cert => $case->[0], headers => ["Cookie: $cookie"])), $case->[1], "$token, session, $case->[0]");
    }
}
is(asked_by('gateway'), '/token/introspection access_token mtls gateway', 'who introspected');
--- no_error_log
[alert]
[error]

=== TEST 2: docs/logins.md
--- listener: optional_no_ca
--- http_config eval: "lua_ssl_trusted_certificate $Keybound::PKI/ca.crt; lua_ssl_verify_depth 1;\n"
--- kong eval
main::page('logins.md', 'web')
--- run
as_control('/log/clear');
my $page = login(cert => 'client', path => '/hello?x=1');
is("$page->{status} $page->{url}", '200 https://api.test/hello?x=1', 'alice logs in');
like($page->{body}, qr/^authorization: Bearer ey/im, 'the upstream gets her token');
unlike($page->{body}, qr/__Host-session/, 'and not her cookie');
is(asked_by('web'), '/token authorization_code mtls web', 'who exchanged the code');
my $stolen = jar();
for my $case (['client', '200 -'], ['-', '401 session_certificate_missing'], ['thief', '401 session_certificate_mismatch'], ['client', '200 -']) {
    jar('copy', $stolen);
    log_mark();
    is(outcome(browse(jar => 'copy', cert => $case->[0], path => '/hello', fetch => 1)), $case->[1], "the cookie, $case->[0]");
}
log_mark();
is(outcome(browse(jar => 'new', cert => 'client', path => '/hello', fetch => 1)), '401 no_token', 'a program is not sent to log in');
as_control('/log/clear');
log_mark();
$page = browse(cert => 'client', path => '/logout', from => 'https://api.test/hello', method => 'POST', stop_at => 'https://api.test/logged-out');
is($page->{stopped}, 'https://api.test/logged-out', 'she logs out, there, too');
like(log_since(), qr/answered, reason=logged_out/, 'and it is in the log');
is(asked_by('web'), '/token/revocation refresh_token mtls web|/token/revocation access_token mtls web', 'tokens are revoked');
jar('copy', $stolen);
log_mark();
is(outcome(browse(jar => 'copy', cert => 'client', path => '/hello', fetch => 1)), '401 session_expired', 'a copy of the cookie is worth nothing');
--- no_error_log
[alert]
[error]
