# A person with a real browser: Chromium logs in, calls the API, goes on when its token was refreshed, and logs out. What it showed is kept as
# pictures in target/artefacts/login.
use Keybound;
use Logins;
use Test::Nginx::Socket 'no_plan';

# Chromium without a screen cannot ask its user for which server a certificate is meant.
as_start('as', '--aliases-only');

run_tests();

__DATA__

=== TEST 1: Chromium logs in, calls the API, its token is refreshed, and it logs out
--- engine
kb = logins { logout_uri_suffix = "/logout", logout_redirect_uri = "https://api.test/logged-out", session_storage = "store" }
--- tls
        location = /logged-out { default_type text/html; return 200 "<!doctype html><title>Logged out</title><p>See you."; }
--- run
my $artefacts = ($ENV{CARGO_TARGET_DIR} // "$ROOT/target") . '/artefacts/login';
command('', 'mkdir', '-p', $artefacts);
unlink glob "$artefacts/*.png";
as_control('/ttl', { AccessToken => 9 });
my $seen = chromium(path => '/hello?x=1', cert => 'client', api => '/api', wait => 8, logout => '/logout', method => 'POST',
    logged_out => 'https://api.test/logged-out', screenshots => $artefacts);
is($seen->{error}, undef, 'it comes to its end');
is($seen->{login}{url}, 'https://api.test/hello?x=1', 'logged in, and back where it was');
is(json([ map { [ @$_{qw(name domain path secure httpOnly sameSite)} ] } @{ $seen->{cookies} } ]),
    json([ [ '__Host-session', 'api.test', '/', JSON::PP::true, JSON::PP::true, 'Lax' ] ]), 'one cookie of the gateway');
my @calls = @{ $seen->{calls} };
is(join(' ', map { $_->{status} } @calls), '200 200 401', 'calls: logged in, after a while, and logged out');
my ($first, $second) = map { json($calls[$_]{body}) } 0, 1;
is($first->{sub} . ' ' . $second->{sub}, 'alice alice', 'for the user');
isnt($first->{authorization}, $second->{authorization}, 'with another token after a while');
is($first->{cookie}, undef, 'the upstream sees no cookie of the gateway');
my @tokens = grep { $_->{path} eq '/token' } @{ as_log() };
is(join(' ', map { "$_->{grant_type} $_->{port} $_->{client_id} $_->{certificate}{subject} $_->{status}" } @tokens),
    'authorization_code mtls web CN=web 200 refresh_token mtls web CN=web 200', 'token and refresh by mutual TLS');
is(join(' ', map { "$_->{token_type_hint} $_->{certificate}{subject}" } grep { $_->{path} eq '/token/revocation' } @{ as_log() }),
    'refresh_token CN=web access_token CN=web', 'both revoked');
like($seen->{logout}{url}, qr{^https://api\.test/logged-out}, 'logged out, and where the operator says');
is(json($seen->{cookies_after}), '[]', 'no cookie is left');
is(join(' ', map { -s "$artefacts/$_.png" ? 'there' : 'missing' } qw(form in out)), 'there there there', 'pictures');
--- timeout: 90
--- no_error_log
[alert]
