# What the tests of faults share: an engine that asks the scripted peer, and questions whose answer must never be a wrong one.
#
# In `engine`: asking(MORE, OPTS) introspects every token at $PEER/introspect; verifying(MORE, OPTS) fetches keys at $PEER/jwks.
# $PEER_NAME is another peer, with the certificate or option that %PEERS gives it; $CLOSED a port that nobody listens on.
package Faults;

use strict;
use warnings;

use JSON::PP ();
use Keybound;
use Test::Nginx::Util qw(add_block_preprocessor);
use Test::More ();
use Time::HiRes ();

our @EXPORT = qw($PEER active inactive opaque ask requests load show_load worker resident jwks_of set_of until_second);

# A request in a worker that waits takes three: its own, one to the server, one of the timer that waits.
Test::Nginx::Util::worker_connections(512);

our ($CLOSED) = Keybound::_free_ports(1);

our $PEER = 'https://localhost:' . peer_start()->{port};
our %PEERS = (
    OTHER => [], EXPIRED => [qw(--cert as-expired)], NAMED => [qw(--cert as-wrong-name)], STRANGE => [qw(--cert as2)], PLAIN => ['--plain'],
    OLD => [qw(--max-tls 1.1)],
);

sub import {
    my $to = caller;
    no strict 'refs';
    for my $name (@EXPORT) {
        my ($sigil, $word) = $name =~ /^(\$?)(.*)/;
        *{"${to}::$word"} = $sigil ? \${$word} : \&{$word};
    }
}

sub _peer { my ($name) = @_; return peer_start(lc $name, @{ $PEERS{$name} // die "no peer $name\n" })->{port} }

# Before what Keybound.pm does with the sections.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $engine = <<'EOC' . ($block->engine // 'kb = asking()');
        local function own(config, more)
            for name, value in pairs(more or {}) do config[name] = value end
            return config
        end
        function asking(more, opts)
            return engine(own({
                issuer = "$PEER", jwks = cjson.null, auth_methods = { "introspection" }, client_id = "gateway",
                client_secret = "gateway-secret", client_auth = "client_secret_basic",
                introspection_endpoint = "$PEER/introspect", ssl_trusted_certificate = "$PKI/ca.crt",
            }, more), opts)
        end
        function verifying(more, opts)
            return engine(own({
                issuer = "$PEER", jwks = cjson.null, jwks_uri = "$PEER/jwks", ssl_trusted_certificate = "$PKI/ca.crt",
            }, more), opts)
        end
EOC
    $engine =~ s/\$CLOSED\b/$CLOSED/g;
    $engine =~ s/\$PEER_([A-Z]+)\b/'https:\/\/localhost:' . _peer($1)/ge;
    $block->set_value(engine => $engine);
});

# active(MEMBER => VALUE...): the answer about a good token, bound to the client's certificate; undef takes a member out
sub active {
    my (%more) = @_;
    my $now = int time;
    my %said = (active => JSON::PP::true, iss => $PEER, aud => 'https://api.test', sub => 'user-1', client_id => 'client-1', scope => 'read',
        token_type => 'Bearer', iat => $now, exp => $now + 600, cnf => { 'x5t#S256' => thumbprint('client') }, %more);
    delete @said{ grep { !defined $said{$_} } keys %said };
    return { json => \%said };
}
sub inactive { return { json => { active => JSON::PP::false } } }

my $tokens = 0;
sub opaque { return join '-', 'opaque', $$, ++$tokens }

# ask(TOKEN, EXPECTED, NAME, OPTION...): one request, and all that the client and the log see of it; EXPECTED as in `calls`
sub ask {
    my ($token, $expected, $name, %call) = @_;
    log_mark();
    my $response = call(cert => 'client', authorization => "Bearer $token", %call);
    check($response, $expected, $name);
    Test::More::like(scalar header($response, 'Retry-After'), qr/^[1-9][0-9]*$/, "$name: Retry-After") if $expected =~ /^503/;
    return $response;
}

# requests(PATH, PEER): how many came below the path, ever: what is cleared out of a log are connections that are still in use
sub requests {
    my ($path, $peer) = @_;
    return scalar grep { index($_->{path}, $path // '/') == 0 } map { @{ $_->{requests} } } @{ peer_log($peer // 'peer')->{log} };
}

# jwks_of(NAME...): the answer with these keys: es, rs; `rogue` is another one that says it is es
sub set_of {
    my (@names) = @_;
    my %known = map { $_->{kid} => $_ } @{ Keybound::jwks()->{keys} };
    if (grep { $_ eq 'rogue' } @names) {
        $known{rogue} = { %{ $known{es} }, %{ Keybound::ec_jwk('as-rogue') } };
    }
    return map { $known{$_} // die "no key $_\n" } @names;
}
sub jwks_of { return { json => { keys => [set_of(@_)] } } }

# load(N, OPTION...): N requests on one connection, one after the other: { failed, p50, p99, max (ms), seconds }
sub load {
    my ($n, %call) = @_;
    my ($curl, @words) = Keybound::_curl_words(%call, path => ($call{path} // '/') . "?[1-$n]");
    my $from = Time::HiRes::time();
    my (undef, $out) = command('', $curl, grep({ $_ ne '--globoff' } @words), '-o', '/dev/null', '-w', '%{http_code} %{time_total}\n');
    my @all = map { [split ' '] } split /\n/, $out;
    my @ms = sort { $a <=> $b } map { 1000 * $_->[1] } @all;
    return {
        failed => $n - scalar(grep { $_->[0] eq '200' } @all), p50 => $ms[$#ms * 0.5], p99 => $ms[$#ms * 0.99], max => $ms[-1],
        seconds => Time::HiRes::time() - $from, n => $n,
    };
}

sub show_load {
    my ($what, $load) = @_;
    Test::More::diag(sprintf '%s: %d requests in %.2f s, p50 %.2f ms, p99 %.2f ms, max %.2f ms, %d failed', $what,
        @$load{qw(n seconds p50 p99 max failed)});
}

# The process that serves; resident(): its memory, in KiB
sub worker {
    my ($master) = read_file("$ENV{TEST_NGINX_SERVROOT}/logs/nginx.pid") =~ /(\d+)/;
    # Other processes end meanwhile.
    my ($child) = map { m{/proc/(\d+)/} } grep { (eval { read_file($_) } // '') =~ /^\d+ \(nginx\) \S $master /m } glob '/proc/[0-9]*/stat';
    return $child // $master;
}
sub resident {
    my ($kib) = read_file('/proc/' . worker() . '/status') =~ /^VmRSS:\s+(\d+)/m;
    return $kib;
}

# until_second(SECOND): waits until the clock shows it, and nginx's too
sub until_second {
    my ($second) = @_;
    Time::HiRes::sleep(0.02) while Time::HiRes::time() < $second;
    Time::HiRes::sleep(0.05);
}

1;
