# What the tests of this directory share: certificates, tokens, a TLS server with keybound in it, and requests to it with
# client certificates. Test::Nginx itself starts nginx and reads its log.
#
# Sections that this adds to those of Test::Nginx:
#
#   --- engine       Lua that makes the engine(s), in init_by_lua; default: kb = engine {}. Replaced here, too: the names below
#   --- tls          directives of the TLS server; a `location /` with kb:access() is added if there is none
#   --- tls_only     the same, and nothing is added
#   --- servers      more server blocks; $TLS, $UPSTREAM, $PKI and the names below are replaced here, in `tls` and in `config`
#   --- tokens eval  { NAME => {...} }, how each is made: see `token`
#   --- fake_library C of a libkeybound.so that is used in place of the real one; what it does not define is as in fake_library.c
#   --- calls        requests to the TLS server and what must come of each, one a line:
#                      CERTIFICATE TOKEN [OPTION=VALUE]... -> STATUS [ERROR REASON]
#                    proof=KEY sends the token with the scheme DPoP and a proof for this request, made by Dpop.pm; htm, htu, iat, nonce,
#                    jti, ath, typ, alg change the proof, scheme=Bearer how the token is sent.
#                    `-` is none. 200 means passed, and nothing was logged; otherwise keybound refused, with this status,
#                    this `error` in the one challenge and this reason in the log. `nginx` for ERROR: nginx refused.
#   --- run          Perl instead of `calls`, with the functions below
#   --- realm, --- messages eval   what the challenge and the bodies must hold, where a block configures them
#   --- schemes      those that it must name, default `Bearer`; `Bearer DPoP` or `DPoP` where proofs are taken; --- algs: those of proofs
#
# Servers beside nginx. Each is started when it is first needed, and ended with the tests:
#
#   as_start, as_stop, as_log, asked, as_control   the authorization server nginx-test/as/server.mjs, or several of them: each has the name of
#                                    its certificate, `as` or `as2` (by another CA) for example. $AS and $AS2 are their issuers,
#                                    $AS_MTLS and $AS2_MTLS where they are for mutual TLS. Their tokens: see `token`
#   browse, login, jar, chromium     nginx-test/browser.mjs and chromium.mjs, which go to the TLS server as https://api.test and log in at these
#   peer_start, peer_script, peer_log   nginx-test/peer.mjs, which does what it is told; $PEER is https:// and its address
#   redis_start, redis_stop          a Redis that keeps nothing; $REDIS is its port. redis, redis_keys: what is in it
#   second_start, second_stop, on_second   a second nginx, with the configuration of the block's own
package Keybound;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Text::ParseWords qw(shellwords);
use Time::HiRes qw(sleep time);

our ($ROOT, $PKI, $TLS_PORT, $PORT, $RUN);

BEGIN {
    $ROOT = abs_path(dirname(__FILE__) . '/../..');
    my $modules = '/usr/lib/nginx/modules';
    $ENV{TEST_NGINX_BINARY} //= '/usr/sbin/nginx';
    $ENV{TEST_NGINX_LOAD_MODULES} //= "$modules/ndk_http_module.so $modules/ngx_http_lua_module.so";
    $ENV{TEST_NGINX_STREAM_PORT} //= 0;
    $RUN = tempdir('keybound-t-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    $ENV{TEST_NGINX_SERVROOT} //= "$RUN/servroot";
    ($PORT, $TLS_PORT) = _free_ports(2);

    # Outside of the range that the system takes local ports of outgoing connections from.
    sub _free_ports {
        my ($n) = @_;
        my %found;
        for (1 .. 1000) {
            my $port = 10000 + int rand 20000;
            my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1);
            $found{$port} = $socket if $socket;
            return keys %found if keys %found == $n;
        }
        die "no free ports\n";
    }
}

# Interrupted, too, the tests take their nginx with them.
$SIG{$_} = sub { exit 1 } for qw(HUP INT PIPE TERM);

use Test::Nginx::Util;
use Test::Nginx::Socket ();
use Test::More ();

our @EXPORT = qw(
    $PKI $ROOT $RUN
    token named_token define thumbprint short_lived self_signed dated
    call calls_on_one_connection at_once s_client start_s_client finish_s_client header
    check reasons log_mark log_since command json read_file write_file
    as_start as_stop as_log as_control as_request asked browse login jar chromium peer_start peer_script peer_log peer_control
    redis_start redis_stop redis redis_keys second_start second_stop on_second
    traffic landed flood flooding all_landed
);

sub import {
    my $to = caller;
    no strict 'refs';
    for my $name (@EXPORT) {
        my ($sigil, $word) = $name =~ /^(\$?)(.*)/;
        *{"${to}::$word"} = $sigil ? \${$word} : \&{$word};
    }
}

my $LUA = $ENV{KEYBOUND_LUA} // "$ROOT/lua";
my $LIB = $ENV{KEYBOUND_LIB} // (($ENV{CARGO_TARGET_DIR} // "$ROOT/target") . '/release');
my $ISSUER = 'https://as.test';
my $AUDIENCE = 'https://api.test';

server_port("127.0.0.1:$PORT");
server_port_for_client($PORT);
log_level('info');
no_shuffle();
no_root_location();
-r "$LIB/libkeybound.so" or bail_out("$LIB/libkeybound.so is not there: run cargo build --release");


# --- Files and processes

sub read_file {
    my ($path) = @_;
    open my $in, '<:raw', $path or die "$path: $!\n";
    local $/;
    return scalar <$in>;
}

sub write_file {
    my ($path, $content) = @_;
    open my $out, '>:raw', $path or die "$path: $!\n";
    print $out $content;
    close $out or die "$path: $!\n";
    return $path;
}

my $JSON = JSON::PP->new->canonical->utf8;
sub json { return ref $_[0] ? $JSON->encode($_[0]) : $JSON->decode($_[0]) }

my $commands = 0;

# start_command(INPUT, WORDS...): returns a handle for finish_command
sub start_command {
    my ($input, @words) = @_;
    my $base = "$RUN/command." . ++$commands;
    write_file("$base.in", $input // '');
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDIN, '<', "$base.in";
        open STDOUT, '>', "$base.out";
        open STDERR, '>', "$base.err";
        { no warnings 'exec'; exec { $words[0] } @words; }
        POSIX::_exit(127);
    }
    return { pid => $pid, base => $base };
}

# finish_command(HANDLE): (exit status, output, errors)
sub finish_command {
    my ($started) = @_;
    waitpid $started->{pid}, 0;
    my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    my @result = ($status, read_file("$started->{base}.out"), read_file("$started->{base}.err"));
    unlink map { "$started->{base}.$_" } qw(in out err);
    return @result;
}

sub command { return finish_command(start_command(@_)) }

# The output of a command that must succeed.
sub _output {
    my ($input, @words) = @_;
    my ($status, $out, $err) = command($input, @words);
    $status == 0 or die "@words: exit status $status\n$err\n";
    return $out;
}


# --- Certificates and keys

$PKI = "$RUN/pki";
my %thumbprints;

sub _make_pki {
    _output('', "$ROOT/nginx-test/pki.sh", $PKI);
    for my $name ('as-es256', 'as-rs256', 'as-rogue') {
        my @how = $name eq 'as-rs256' ? (qw(RSA -pkeyopt rsa_keygen_bits:2048)) : (qw(EC -pkeyopt ec_paramgen_curve:P-256));
        _output('', qw(openssl genpkey -quiet -algorithm), @how, '-out', "$PKI/$name.key");
    }
}

# self_signed(NAME, SUBJECT, key => NAME, names => N): a certificate that signs itself, with the key of another, with N names
sub self_signed {
    my ($name, $subject, %how) = @_;
    delete $thumbprints{$name};
    my @key = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes);
    if ($how{key}) {
        write_file("$PKI/$name.key", read_file("$PKI/$how{key}.key"));
        @key = ('-key', "$PKI/$name.key");
    } else {
        push @key, '-keyout', "$PKI/$name.key";
    }
    my $names = $how{names} ? join ',', map { sprintf 'DNS:name-%04d.clients.example.org', $_ } 1 .. $how{names} : undef;
    my $config = write_file("$RUN/req.cnf", join "\n",
        '[req]', 'distinguished_name = dn', '[dn]', '[ext]', 'basicConstraints = critical, CA:FALSE',
        'extendedKeyUsage = clientAuth', $names ? "subjectAltName = $names" : (), '');
    _output('', qw(openssl req -x509 -days 3650 -extensions ext -config), $config, '-subj', $subject, @key,
        '-out', "$PKI/$name.crt");
}

# short_lived(NAME, SECONDS): a certificate by our CA that ends SECONDS from now
sub short_lived {
    my ($name, $seconds) = @_;
    _output('', "$ROOT/nginx-test/pki.sh", '--short', $name, $seconds, $PKI);
}

sub _base64url {
    my $text = encode_base64($_[0], '');
    $text =~ tr{+/}{-_};
    $text =~ s/=+$//;
    return $text;
}

# dated(NAME, FROM, TO): a certificate that signs itself, with dates in seconds from now
sub dated {
    my ($name, $from, $to) = @_;
    my $dir = "$RUN/dated";
    mkdir $dir;
    write_file("$dir/index.txt", '');
    my $config = write_file("$dir/cnf", join "\n", '[req]', 'distinguished_name = dn', 'prompt = no', '[dn]', "commonName = $name",
        '[ca]', 'default_ca = sign', '[sign]', "database = $dir/index.txt", "new_certs_dir = $dir", 'rand_serial = yes',
        'default_md = sha256', 'policy = any', 'x509_extensions = ext', '[any]', 'commonName = supplied',
        '[ext]', 'extendedKeyUsage = clientAuth', '');
    my @dates = map { POSIX::strftime('%Y%m%d%H%M%SZ', gmtime time + $_) } $from, $to;
    _output('', qw(openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config), $config,
        '-keyout', "$PKI/$name.key", '-out', "$dir/csr");
    _output('', qw(openssl ca -batch -notext -selfsign -config), $config, '-keyfile', "$PKI/$name.key", '-in', "$dir/csr",
        '-startdate', $dates[0], '-enddate', $dates[1], '-out', "$PKI/$name.crt");
    delete $thumbprints{$name};
}

# thumbprint(NAME): x5t#S256 as openssl computes it
sub thumbprint {
    my ($name) = @_;
    return $thumbprints{$name} //=
        _base64url(_output(_output('', qw(openssl x509 -outform DER -in), "$PKI/$name.crt"), qw(openssl dgst -sha256 -binary)));
}

# ec_jwk(NAME): the public key of a P-256 key, as a JWK
sub ec_jwk {
    my ($name) = @_;
    my $point = substr _output('', qw(openssl pkey -pubout -outform DER -in), "$PKI/$name.key"), -64;
    return { kty => 'EC', crv => 'P-256', x => _base64url(substr $point, 0, 32), y => _base64url(substr $point, 32) };
}

# The issuer's JWK set, from the keys that are not rogue.
sub jwks {
    my ($modulus) = _output('', qw(openssl rsa -noout -modulus -in), "$PKI/as-rs256.key") =~ /Modulus=([0-9A-F]+)/;
    return { keys => [
        { %{ ec_jwk('as-es256') }, kid => 'es', alg => 'ES256', use => 'sig' },
        { kty => 'RSA', kid => 'rs', alg => 'RS256', use => 'sig', n => _base64url(pack 'H*', $modulus), e => 'AQAB' },
    ] };
}

_make_pki();
my $JWKS = jwks();


# --- Tokens

my %KEYS = (
    es256 => { file => 'as-es256', alg => 'ES256', kid => 'es' },
    rs256 => { file => 'as-rs256', alg => 'RS256', kid => 'rs' },
    # Not the issuer's, although it says so.
    rogue => { file => 'as-rogue', alg => 'ES256', kid => 'es' },
);
my $tokens = 0;

# A token. With `as` in %how it is of a real authorization server: as: client; cert: certificate; jkt: key; resource: the last part of its
# URL, `opaque` for example; scope; server: name. Otherwise it is signed here: for: the certificate that it is bound to; jkt: the
# key of Dpop.pm; claims, header: members; without: names that are left out; payload: instead of the claims; key: name
sub token {
    my (%how) = @_;
    return _as_token(%how) if $how{as};
    my $key = $KEYS{$how{key} // 'es256'};
    my $now = int time;
    my %header = (typ => 'at+jwt', alg => $key->{alg}, kid => $key->{kid}, %{ $how{header} // {} });
    my %claims = (
        iss => $ISSUER, aud => $AUDIENCE, sub => 'user-1', client_id => 'client-1', scope => 'read',
        iat => $now, exp => $now + 600, jti => join('-', $$, ++$tokens),
        ($how{for} || $how{jkt} ? (cnf => _bindings(%how)) : ()),
        %{ $how{claims} // {} },
    );
    delete @header{ @{ $how{without} // [] } };
    delete @claims{ @{ $how{without} // [] } };
    my $signed = _base64url($JSON->encode(\%header)) . '.' . _base64url($how{payload} // $JSON->encode(\%claims));
    my $signature = _output($signed, qw(openssl dgst -sha256 -sign), "$PKI/$key->{file}.key");
    $signature = _raw($signature) if $key->{alg} eq 'ES256';
    return "$signed." . _base64url($signature);
}

sub _bindings {
    my (%how) = @_;
    require Dpop;
    return { $how{for} ? ('x5t#S256' => thumbprint($how{for})) : (), $how{jkt} ? (jkt => Dpop::jkt($how{jkt})) : () };
}

# An ECDSA signature as JOSE has it: two numbers of 32 octets (RFC 7518 §3.4).
sub _raw {
    my ($der) = @_;
    return join '', map { my $n = s/^\0+//r; "\0" x (32 - length $n) . $n } unpack 'x2 x C/a x C/a', $der;
}

# What every test has: by name, or `for:CERTIFICATE`, `jkt:KEY` and `both:CERTIFICATE:KEY`, or from the authorization server, `as:CERTIFICATE` and
# `opaque:CERTIFICATE`, `as-jkt:KEY` and `opaque-jkt:KEY`.
my %TOKENS = (
    unbound => {},
    bound => { for => 'client' },
    rs256 => { for => 'client', key => 'rs256' },
    forged => { for => 'client', key => 'rogue' },
    expired => { for => 'client', claims => { iat => 1, exp => 2 } },
    other_audience => { for => 'client', claims => { aud => 'https://other.test' } },
    junk => { text => 'junk' },
);
my %minted;
my $block_tokens = {};

# define(NAME => {...}, ...): tokens made at run time, as in `tokens`
sub define {
    my (%how) = @_;
    delete @minted{ keys %how };
    @$block_tokens{ keys %how } = values %how;
}

# named_token(NAME): the token, the same one in all calls of a block
sub named_token {
    my ($name) = @_;
    return $minted{$name} //= do {
        my $how = $block_tokens->{$name} // $TOKENS{$name};
        $how = { for => $1 } if !$how && $name =~ /^for:(.+)/;
        $how = { jkt => $1 } if !$how && $name =~ /^jkt:(.+)/;
        $how = { as => 'dpop', jkt => $2, $1 eq 'as' ? () : (resource => $1) } if !$how && $name =~ /^(as|opaque)-jkt:(.+)/;
        $how = { for => $1, jkt => $2 } if !$how && $name =~ /^both:([^:]+):(.+)/;
        $how = { as => 'any', cert => $2, $1 eq 'as' ? () : (resource => $1) } if !$how && $name =~ /^(as|opaque):(.+)/;
        $how // die "no token named $name\n";
        $how->{text} // token(%$how);
    };
}


# --- Servers beside nginx

my (%servers, $redis, $redis_port);
my $OWNER = $$;

# _server(NAME, WORDS...): a server that prints one line of JSON when it is ready, which is returned; started if it is not running
sub _server {
    my ($name, @words) = @_;
    return $servers{$name}{ready} if $servers{$name};
    my $node = _output('', "$ROOT/tools/node.sh") =~ s/\n//r;
    # Seen once: a Node that neither started nor ended within the time. It is said, and tried once more.
    for (1, 2) {
        my $started = $servers{$name} = start_command('', $node, @words);
        if (my $line = _wait_for($started, qr/^(\{.*\})\n/)) {
            return $started->{ready} = json($line);
        }
        delete $servers{$name};
        Test::More::diag("$name did not start: " . _end($started));
    }
    die "no $name\n";
}

# What PATTERN takes out of the output of a command that goes on; undef when it ends or 30 seconds have passed.
sub _wait_for {
    my ($started, $pattern) = @_;
    my $deadline = time + 30;
    my $file = "$started->{base}.out";
    while (time < $deadline) {
        return $1 if -e $file && read_file($file) =~ $pattern;
        return if waitpid($started->{pid}, POSIX::WNOHANG()) != 0;
        sleep 0.02;
    }
    return;
}

# Ends it; returns what it said.
sub _end {
    my ($started) = @_;
    my $deadline = time + 10;
    kill TERM => $started->{pid};
    while (waitpid($started->{pid}, POSIX::WNOHANG()) == 0) {
        kill KILL => $started->{pid} if time > $deadline;
        sleep 0.02;
    }
    my $said = join '', map { read_file("$started->{base}.$_") } qw(out err);
    unlink map { "$started->{base}.$_" } qw(in out err);
    return $said;
}

END {
    # A forked child has no servers of its own; and what is ended here must not be the exit status.
    if ($$ == $OWNER) {
        local ($?, $@);
        second_stop();
        _end($_) for values(%servers), $redis // ();
    }
}

# _control(READY, PATH, DATA): the answer of a control port
sub _control {
    my ($ready, $path, $data) = @_;
    my @words = (qw(curl -q -sS --noproxy * --max-time 10), "http://127.0.0.1:$ready->{control_port}$path");
    push @words, '--data-binary', '@-' if $data;
    my $answer = json(_output($data ? json($data) : '', @words));
    die "$path: $answer->{error}\n" if ref $answer eq 'HASH' && $answer->{error};
    return $answer;
}

# as_start(NAME, OPTION...): what it said: issuer, port, mtls_port, control_port, pid. NAME is that of its certificate, too;
# OPTION: of as/server.mjs
sub as_start {
    my ($name, @options) = (@_ ? @_ : 'as');
    return _server($name, "$ROOT/nginx-test/as/server.mjs", '--pki', $PKI, '--cert', $name, @options);
}

# as_stop(NAME): ends it; as_start begins another one, with other keys
sub as_stop { _end(delete $servers{$_[0]}) }

# as_control(PATH, DATA, NAME): see as/server.mjs; as_log(NAME): the requests so far
sub as_control { return _control(as_start($_[2] // 'as'), $_[0], $_[1] // {}) }
sub as_log { return _control(as_start($_[0] // 'as'), '/log') }

# asked(PATH, NAME): the requests for PATH in its log
sub asked {
    my ($path, $name) = @_;
    return grep { $_->{path} eq $path } @{ as_log($name) };
}

# as_request(PATH, DATA, client, cert, server, headers): the answer to what a client asks, from the port for mutual TLS; `response`
# in it is the whole HTTP response
sub as_request {
    my ($path, $data, %how) = @_;
    my $as = as_start($how{server} // 'as');
    my @words = (qw(curl -q -sS -i --noproxy * --max-time 10 --cacert), "$PKI/roots.crt");
    push @words, '--cert', "$PKI/$how{cert}.crt", '--key', "$PKI/$how{cert}.key" if ($how{cert} // '-') ne '-';
    my @client = $how{client} =~ /^(?:any|unbound|gateway-basic|web-secret|dpop|dpop-nonce)$/ ? ('-u', "$how{client}:$how{client}-secret")
        : ('-d', "client_id=$how{client}");
    push @words, @client, map { ('--data-urlencode', "$_=$data->{$_}") } sort keys %$data;
    push @words, map { ('-H', $_) } @{ $how{headers} // [] };
    my $response = response(_output('', @words, "https://localhost:$as->{mtls_port}$path"));
    return { length $response->{body} ? %{ json($response->{body}) } : (), response => $response };
}

sub _as_token {
    my (%how) = @_;
    my $resource = join '/', $AUDIENCE, $how{resource} // ();
    my $uri = 'https://localhost:' . as_start($how{server} // 'as')->{mtls_port} . '/token';
    my ($answer, $nonce);
    # The second time with the nonce that the server asked for (RFC 9449 §8).
    for (1, 2) {
        require Dpop if $how{jkt};
        my @proof = $how{jkt} ? 'DPoP: ' . Dpop::proof($how{jkt}, method => 'POST', uri => $uri, nonce => $nonce) : ();
        $answer = as_request('/token', { grant_type => 'client_credentials', scope => $how{scope} // 'read', resource => $resource },
            client => $how{as}, cert => $how{cert}, server => $how{server}, headers => \@proof);
        last if ($answer->{error} // '') ne 'use_dpop_nonce';
        $nonce = header(delete $answer->{response}, 'DPoP-Nonce');
    }
    return $answer->{access_token} // die "no token for $how{as}: " . json($answer) . "\n";
}

# peer_start(NAME, OPTION...): what it said: port, control_port, pid. OPTION: of peer.mjs
sub peer_start {
    my ($name, @options) = (@_ ? @_ : 'peer');
    return _server($name, "$ROOT/nginx-test/peer.mjs", '--pki', $PKI, @options);
}

# peer_script(SCRIPT, NAME), peer_control(PATH, DATA, NAME): see peer.mjs; peer_log(NAME): what came, with bodies
sub peer_control { return _control(peer_start($_[2] // 'peer'), $_[0], $_[1] // {}) }
sub peer_script { return peer_control('/script', @_) }
sub peer_log { return _control(peer_start($_[0] // 'peer'), '/log?bodies') }

# redis_start(PASSWORD): its port, the same one each time
sub redis_start {
    my ($password) = @_;
    return $redis_port if $redis;
    for (1 .. 3) {
        $redis_port //= (_free_ports(1))[0];
        my $config = write_file("$RUN/redis.conf", join "\n", 'bind 127.0.0.1', "port $redis_port", "dir $RUN", 'save ""',
            'appendonly no', defined $password ? "requirepass $password" : (), '');
        $redis = start_command('', 'redis-server', $config);
        return $redis_port if _wait_for($redis, qr/(Ready to accept connections)/);
        Test::More::diag('redis-server did not start: ' . _end($redis));
        undef $_ for $redis, $redis_port;
    }
    die "no redis-server\n";
}

sub redis_stop {
    _end($redis) if $redis;
    undef $redis;
}

# redis(WORDS...): what it answers
sub redis { return _output('', qw(redis-cli -h 127.0.0.1 -p), redis_start(), @_) =~ s/\n\z//r }

# redis_keys(): all that is in it: { key, value, ttl }. Keys are not text.
sub redis_keys {
    my $out = redis('--no-raw', 'EVAL', <<'EOL', 0);
local t = {}
for i, key in ipairs(redis.call("KEYS", "*")) do
    local hex = function(s) return (s:gsub(".", function(c) return string.format("%02x", c:byte()) end)) end
    local value = redis.call("GET", key)
    t[i] = hex(key) .. ":" .. hex(value) .. ":" .. redis.call("PTTL", key)
end
return t
EOL
    return map { my ($key, $value, $ttl) = split /:/; { key => pack('H*', $key), value => pack('H*', $value), ttl => $ttl } } $out =~ /"([0-9a-f:-]+)"/g;
}


# --- Requests

# response(TEXT): of one HTTP response
sub response {
    my ($text) = @_;
    my ($head, $body) = split /\r?\n\r?\n/, $text, 2;
    my ($first, @lines) = split /\r?\n/, $head // '';
    my ($status) = ($first // '') =~ m{^HTTP/\S+ (\d+)};
    my @headers = map { [ /^([^:]+):\s*(.*?)\s*$/ ] } @lines;
    return { status => $status, headers => \@headers, body => $body // '' };
}

# header(RESPONSE, NAME): its values
sub header {
    my ($response, $name) = @_;
    my @values = map { $_->[1] } grep { lc $_->[0] eq lc $name } @{ $response->{headers} };
    return wantarray ? @values : join ', ', @values;
}

# The words of curl for a request.
#   cert, token: names, `-` for none; authorization: the whole value; tls: 1.2 or 1.3; h2; method; path; host: of URL and SNI;
#   headers: array; data: body; plain: the plain HTTP server
sub _curl_words {
    my (%call) = @_;
    my $cert = $call{cert} // '-';
    my $host = $call{host} // 'api.test';
    my $port = $call{plain} ? $PORT : $TLS_PORT;
    my @words = (qw(curl -q -sS --noproxy * --max-time 10 --globoff --path-as-is -H User-Agent: -H Accept:));
    push @words, '--cacert', "$PKI/ca.crt", '--connect-to', "::127.0.0.1:$port";
    push @words, '--cert', "$PKI/$cert.crt", '--key', "$PKI/$cert.key" if $cert ne '-';
    push @words, "--tlsv$call{tls}", '--tls-max', $call{tls} if $call{tls};
    push @words, $call{h2} ? '--http2' : '--http1.1';
    my $method = $call{method} // 'GET';
    push @words, $method eq 'HEAD' ? '--head' : ('-X', $method) if $method ne 'GET';
    my $authorization = $call{authorization};
    $authorization //= 'Bearer ' . named_token($call{token}) if ($call{token} // '-') ne '-';
    # curl would drop a header without value.
    push @words, '-H', length $authorization ? "Authorization: $authorization" : 'Authorization;' if defined $authorization;
    push @words, map { ('-H', $_) } @{ $call{headers} // [] };
    # A word of a command has at most 128 KiB.
    my $data = length($call{data} // '') > 100_000 ? '@' . write_file("$RUN/data", $call{data}) : $call{data};
    push @words, '--data-binary', $data, '-H', 'Expect:' if defined $data;
    push @words, ($call{plain} ? 'http' : 'https') . "://$host" . ($call{path} // '/');
    return @words;
}

# call(%call): one request on a connection of its own
sub call {
    my (%call) = @_;
    my ($status, $out, $err) = command('', _curl_words(%call), '-i');
    my $response = response($out);
    @$response{qw(curl error scheme)} = ($status, $err, _scheme(%call));
    return $response;
}

# The one that a challenge answers.
sub _scheme { my (%call) = @_; return ($call{authorization} // '') =~ /^DPoP\b/i ? 'DPoP' : 'Bearer' }

# calls_on_one_connection(\%call, ...): the responses; each says with `connected` how many connections it opened
sub calls_on_one_connection {
    my @calls = @_;
    my $base = "$RUN/one";
    my @words;
    for my $i (0 .. $#calls) {
        unlink "$base.$i";
        my ($curl, @rest) = _curl_words(%{ $calls[$i] });
        push @words, ($i ? '--next' : $curl), @rest, '-D', "$base.$i", '-o', "$base.$i.body", '-w', '%{num_connects}\n';
    }
    my ($status, $out, $err) = command('', @words);
    my @connected = split /\n/, $out;
    my @responses;
    for my $i (0 .. $#calls) {
        my $response = -e "$base.$i" ? response(read_file("$base.$i")) : response('');
        $response->{body} = -e "$base.$i.body" ? read_file("$base.$i.body") : '';
        @$response{qw(connected curl error scheme)} = ($connected[$i], $status, $err, _scheme(%{ $calls[$i] }));
        unlink "$base.$i", "$base.$i.body";
        push @responses, $response;
    }
    return @responses;
}

# browse(%how): what browser.mjs says of a navigation to the TLS server, or what went wrong in `error`
#   jar: name of its cookies, default `jar`; cert: name; path, host; url: instead of these; user, password: for login forms, abort: cancels at
#   them; fetch: by fetch() of a page; from: URL of the page where it begins; stop_at: beginning of a URL; no_follow; method; data; headers: array
sub browse {
    my (%how) = @_;
    my $node = _output('', "$ROOT/tools/node.sh") =~ s/\n//r;
    my $host = $how{host} // 'api.test';
    my @words = ($node, "$ROOT/nginx-test/browser.mjs", '--ca', "$PKI/roots.crt", '--jar', _jar_file($how{jar}));
    push @words, map { ('--connect', "$_=127.0.0.1:$TLS_PORT", '--cert-for', $_) } 'api.test', $host eq 'api.test' ? () : $host;
    push @words, '--cert', "$PKI/$how{cert}.crt", '--key', "$PKI/$how{cert}.key" if ($how{cert} // '-') ne '-';
    push @words, map { $how{$_} ? '--' . tr/_/-/r : () } qw(abort fetch no_follow);
    push @words, map { defined $how{$_} ? ('--' . tr/_/-/r, $how{$_}) : () } qw(user password from stop_at method data);
    push @words, map { ('--header', $_) } @{ $how{headers} // [] };
    my ($status, $out, $err) = command('', @words, $how{url} // "https://$host" . ($how{path} // '/'));
    return $status == 0 ? json($out) : { error => $err, hops => [] };
}

# login(%how): `browse` as alice, from `path` by way of the authorization server `as` and back. `callback`: the redirect URI, and
# `client` whose it is, default web; without it it is https://api.test/callback
sub login {
    my (%how) = @_;
    my ($as, $client, $callback) = delete @how{qw(as client callback)};
    as_control('/redirect', { client_id => $client // 'web', redirect_uris => [$callback] }, $as // 'as') if $callback;
    return browse(user => 'alice', %how);
}

# chromium(%how): what chromium.mjs says of a login, or what went wrong in `error`. It needs as_start('as', '--aliases-only').
#   url, path, cert: as for `browse`; the others: options of chromium.mjs
sub chromium {
    my (%how) = @_;
    my $node = _output('', "$ROOT/tools/node.sh") =~ s/\n//r;
    my $url = delete $how{url} // 'https://api.test' . (delete $how{path} // '/');
    my @words = ($node, "$ROOT/nginx-test/chromium.mjs", '--pki', $PKI, '--connect', "api.test:443=127.0.0.1:$TLS_PORT", '--gateway', 'https://api.test');
    push @words, map { ('--' . tr/_/-/r, $how{$_}) } sort keys %how;
    my ($status, $out, $err) = command('', @words, $url);
    return $status == 0 ? json($out) : { error => $err };
}

# jar(NAME): the cookies of a browser, a list of hashes; jar(NAME, COOKIES): has these from now on
sub jar {
    my ($name, $cookies) = @_;
    my $file = _jar_file($name);
    write_file($file, json($cookies)) if $cookies;
    return -e $file ? json(read_file($file)) : [];
}

sub _jar_file { return "$RUN/" . ($_[0] // 'jar') . '.cookies' }

# s_client(%call): one request by openssl s_client, TLS and HTTP as the caller says
#   cert, token, authorization, tls, host, path, headers: as for `call`; sni; save, resume: files of a session; no_ticket; early: as early data;
#   again: the same call is made a second time on the connection, so many seconds later
sub s_client { return finish_s_client(start_s_client(@_)) }

sub start_s_client {
    my (%call) = @_;
    my $host = $call{host} // 'api.test';
    my $request = "GET " . ($call{path} // '/') . " HTTP/1.1\r\nHost: $host\r\n";
    my $authorization = $call{authorization};
    $authorization //= 'Bearer ' . named_token($call{token}) if ($call{token} // '-') ne '-';
    $request .= "Authorization: $authorization\r\n" if defined $authorization;
    $request .= "$_\r\n" for @{ $call{headers} // [] };
    my ($more, $last) = ("$request\r\n", "${request}Connection: close\r\n\r\n");
    my @words = (qw(openssl s_client -quiet -connect), "127.0.0.1:$TLS_PORT", '-servername', $call{sni} // $host,
        '-CAfile', "$PKI/ca.crt", '-verify_return_error');
    push @words, $call{tls} eq '1.2' ? '-tls1_2' : '-tls1_3' if $call{tls};
    push @words, '-cert', "$PKI/$call{cert}.crt", '-key', "$PKI/$call{cert}.key" if ($call{cert} // '-') ne '-';
    push @words, '-sess_out', $call{save} if $call{save};
    push @words, '-sess_in', $call{resume} if $call{resume};
    push @words, '-no_ticket' if $call{no_ticket};
    if ($call{early}) {
        return start_command('', @words, '-early_data', write_file("$RUN/early", $last));
    }
    if (defined $call{again}) {
        return start_command($last, 'sh', '-c', '{ printf %s "$0"; sleep "$1"; cat; } | { shift; exec "$@"; }', $more, $call{again}, @words);
    }
    return start_command($last, @words);
}

sub finish_s_client {
    my ($status, $out, $err) = finish_command($_[0]);
    my @responses = map { response($_) } split /(?=^HTTP\/1\.1 )/m, $out;
    @responses = (response('')) unless @responses;
    @$_{qw(curl error)} = ($status, $err) for @responses;
    return wantarray ? @responses : $responses[0];
}

# at_once(N, \%call, ...): for each call a process that makes it N times, all at once; each time on a new connection, unless the
# call says `keep`. Returns the statuses of each, counted: { 200 => N }
sub at_once { return landed(traffic(@_)) }

# traffic(N, \%call, ...): the same in the background; `rate`: so many a second. landed(HANDLE...): what at_once returns
sub traffic {
    my ($n, @calls) = @_;
    return map { _many($n, $_, $_->{keep} ? () : ('-H', 'Connection: close'), $_->{rate} ? ('--rate', "$_->{rate}/s") : ()) } @calls;
}

# flood(N, PROCESSES, %call): N times the call in each of so many processes, all N at once on one connection. As at_once returns it,
# over all processes. flooding(N, PROCESSES, %call): the same in the background, for all_landed(HANDLE...)
sub flood { return all_landed(flooding(@_)) }

sub flooding {
    my ($n, $processes, %call) = @_;
    return map { _many($n, { %call, h2 => 1 }, '--parallel', '--parallel-max', $n) } 1 .. $processes;
}

sub all_landed {
    my %count;
    for my $one (landed(@_)) {
        $count{$_} += $one->{$_} for keys %$one;
    }
    return \%count;
}

sub _many {
    my ($n, $call, @more) = @_;
    my $path = $call->{path} // '/';
    my ($curl, @words) = _curl_words(%$call, path => "$path?[1-$n]");
    return start_command('', $curl, grep({ $_ ne '--globoff' } @words), @more, qw(--max-time 60 -o /dev/null -w), '%{http_code}\n');
}

sub landed {
    return map {
        my %count;
        my (undef, $out) = finish_command($_);
        $count{$_}++ for split /\n/, $out;
        \%count;
    } @_;
}


# --- What came of a request

our $ERROR_LOG = "$ENV{TEST_NGINX_SERVROOT}/logs/error.log";
our $mark = 0;
sub log_mark { return $mark = -s $ERROR_LOG // 0 }

# The error log since the last log_mark.
sub log_since {
    open my $in, '<:raw', $ERROR_LOG or die "$ERROR_LOG: $!\n";
    seek $in, $mark, 0;
    local $/;
    return <$in> // '';
}

# What keybound, or its Kong plugin, logged since the last mark, as "STATUS REASON".
sub reasons {
    return map { /(?:keybound: |\[keybound\] )refused, reason=(\w+), status=(\d+)/ ? "$2 $1" : () } split /\n/, log_since();
}

my ($second, $second_port);

# second_start(CHANGE): a second nginx, with the configuration of the block's own, which CHANGE may change in $_
sub second_start {
    my ($change) = @_;
    my $root = "$RUN/second";
    mkdir $_ for $root, "$root/logs", "$root/html";
    my ($plain, $tls) = _free_ports(2);
    my $conf = read_file("$ENV{TEST_NGINX_SERVROOT}/conf/nginx.conf");
    $conf =~ s/\Q$ENV{TEST_NGINX_SERVROOT}\E/$root/g;
    $conf =~ s/127\.0\.0\.1:$TLS_PORT\b/127.0.0.1:$tls/g;
    $conf =~ s/127\.0\.0\.1:$PORT\b/127.0.0.1:$plain/g;
    $conf =~ s/^daemon off;//m;
    $change->() for $change ? $conf : ();
    write_file("$root/nginx.conf", $conf);
    _output('', $ENV{TEST_NGINX_BINARY}, '-p', "$root/", '-e', "$root/logs/error.log", '-c', "$root/nginx.conf");
    for (1 .. 200) {
        last if -s "$root/logs/nginx.pid";
        sleep 0.02;
    }
    ($second, $second_port) = (read_file("$root/logs/nginx.pid") + 0, $tls);
}

sub second_stop {
    return unless $second;
    kill TERM => $second;
    for (1 .. 500) {
        last unless kill 0 => $second;
        sleep 0.02;
    }
    undef $second;
}

# on_second(CODE): what `call` and the like in there ask, and the log that is looked at, are those of the second one
sub on_second {
    my ($code) = @_;
    local ($TLS_PORT, $ERROR_LOG, $mark) = ($second_port, "$RUN/second/logs/error.log", 0);
    log_mark();
    return $code->();
}

# All reason codes, for looking whether one leaks.
my @CODES = read_file("$ROOT/docs/reasons.md") =~ /^\| `(\w+)` \|/mg;
my %MESSAGES = (400 => 'Bad Request', 401 => 'Unauthorized', 403 => 'Forbidden', 425 => 'Too Early', 500 => 'An unexpected error occurred',
    503 => 'Service Unavailable');
# No other token would do.
my $SILENT = qr/^(?:consumer_not_found|login_\w+|code_refused|id_token_invalid|credentials_malformed|logout_cross_site)$/;
my $realm = '';
my (%messages, @schemes, $algs);

# check(RESPONSE, EXPECTED, NAME): compares all that the client and the log can see; EXPECTED as in `calls`
sub check {
    my ($response, $expected, $name) = @_;
    my @wrong;
    my $got = $response->{status} // "no response (exit status $response->{curl}: $response->{error})";
    my @challenges = header($response, 'WWW-Authenticate');
    my @logged = reasons();
    my ($status, $error, $reason) = split ' ', $expected;
    if (@logged == 1 && $logged[0] =~ /^(\d+) (\w+)$/) {
        my ($told, $why) = ($1, $2);
        push @wrong, "the log says status $told" if $told ne $got;
        my ($shown) = @challenges == 1 ? $challenges[0] =~ /\berror="([^"]*)"/ : ();
        push @wrong, scalar(@challenges) . " challenges" if @challenges != ($got =~ /^40[013]$/ && $why !~ $SILENT ? 1 : 0);
        if (@challenges == 1) {
            my $whole = _challenges($response->{scheme} // 'Bearer', defined $shown ? "error=\"$shown\"" : '');
            my $rest = $challenges[0];
            $rest =~ s/, scope="[^"]*"// if $why eq 'insufficient_scope';
            push @wrong, "challenge is $challenges[0]" if $rest ne $whole;
        }
        push @wrong, _wrong_answer($response, $why, $shown // '') if $got =~ /^\d+$/;
        $got .= ' ' . ($shown // '-') . " $why";
    } elsif (@logged) {
        push @wrong, 'logged: ' . join ', ', @logged;
    } elsif (@challenges) {
        push @wrong, "a challenge: @challenges";
    } elsif ($got =~ /^[45]/) {
        $got .= ' nginx';
    }
    Test::More::is(join(' BUT ', $got, @wrong), $expected, $name);
}

# All in one header: for each scheme that is accepted, that of the one that was used first, and what was wrong in it (RFC 9449 §7.2).
sub _challenges {
    my ($used, $error) = @_;
    return join ', ', map {
        my $told = $_ eq $used || @schemes == 1 ? $error : '';
        join ' ', $_, join(', ', grep { length } $realm, $told, $_ eq 'DPoP' ? "algs=\"$algs\"" : '') || ();
    } sort { ($b eq $used) <=> ($a eq $used) } @schemes;
}

sub _wrong_answer {
    my ($response, $reason, $error) = @_;
    my @wrong;
    my %expected = ('Content-Type' => 'application/json; charset=utf-8', 'Cache-Control' => 'no-store');
    for my $name (sort keys %expected) {
        my @values = header($response, $name);
        push @wrong, "$name is @values" if @values != 1 || $values[0] ne $expected{$name};
    }
    my $message = $messages{$response->{status}} // $MESSAGES{$response->{status}};
    my $body = $JSON->encode({ message => $message });
    my ($length) = header($response, 'Content-Length');
    push @wrong, "Content-Length is " . ($length // 'absent') if ($length // '') ne length $body;
    push @wrong, "body is $response->{body}" if $response->{body} ne $body && !$response->{head};
    my $seen = join "\n", $response->{body}, map { "$_->[0]: $_->[1]" } grep { lc $_->[0] ne 'www-authenticate' } @{ $response->{headers} };
    push @wrong, "$_ is told to the client" for grep { $seen =~ /\b$_\b/ && $_ ne 'allowed' } @CODES;
    push @wrong, 'the challenge tells the reason' if $reason ne $error && grep { /\b$reason\b/ } header($response, 'WWW-Authenticate');
    return @wrong;
}

# A call of `calls`, with the proof that it names.
sub _with_proof {
    my (%call) = @_;
    my %proof = map { defined $call{$_} ? ($_ => delete $call{$_}) : () } qw(htm htu iat nonce jti ath typ alg);
    my $key = delete $call{proof};
    return %call unless defined $key || $call{scheme};
    require Dpop;
    my %claims = map { defined $proof{$_} ? ($_ => delete $proof{$_}) : () } qw(htm htu ath);
    return Dpop::sent($key, delete $call{token}, %call, proof => { %proof, claims => \%claims });
}

sub _run_calls {
    my ($block) = @_;
    my $calls = 0;
    for my $line (split /\n/, $block->calls) {
        $line =~ s/^\s+|\s+$//g;
        next if $line eq '' || $line =~ /^#/;
        my ($left, $expected) = $line =~ /^(.*?)\s*->\s*(.*)$/ or die "no -> in: $line\n";
        my ($cert, $token, @options) = shellwords(join ' ', $left, $block->defaults // '');
        my %call = (cert => $cert, token => $token);
        for my $option (@options) {
            my ($name, $value) = split /=/, $option, 2;
            $name =~ /^(?:tls|h2|method|path|host|header|data|plain|authorization|scheme|proof|ht[mu]|iat|nonce|jti|ath|typ|alg)$/ or die "no option $name: $line\n";
            $value //= 1;
            if ($name eq 'header') { push @{ $call{headers} }, $value } else { $call{$name} = $value }
        }
        log_mark();
        my $response = call(_with_proof(%call));
        $response->{head} = 1 if ($call{method} // '') eq 'HEAD';
        check($response, join(' ', split ' ', $expected), $block->name . ": $left");
        $calls++;
    }
    $calls or die "no calls\n";
}


# --- The configuration of nginx

sub _replace {
    my ($text) = @_;
    $text =~ s/\$UPSTREAM/unix:$ENV{TEST_NGINX_SERVROOT}\/logs\/upstream.sock/g;
    $text =~ s/\$TLS\b/127.0.0.1:$TLS_PORT/g;
    $text =~ s/\$PKI\b/$PKI/g;
    $text =~ s/\$(AS2?)\b/as_start(lc $1)->{issuer}/ge;
    $text =~ s/\$(AS2?)_MTLS\b/'https:\/\/localhost:' . as_start(lc $1)->{mtls_port}/ge;
    $text =~ s/\$PEER\b/'https:\/\/localhost:' . peer_start()->{port}/ge;
    $text =~ s/\$REDIS\b/redis_start()/ge;
    return $text;
}

our %DEFAULTS = (issuer => $ISSUER, audience_required => [$AUDIENCE], jwks => $JWKS);

my $CERTIFICATE = <<"EOC";
        ssl_certificate $PKI/server.crt;
        ssl_certificate_key $PKI/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
EOC

# A library made of C, for what the real one never does.
sub _fake_library {
    my ($code) = @_;
    my $dir = "$RUN/fake";
    mkdir $dir;
    _output('', qw(cc -D_GNU_SOURCE -Wall -Wextra -Werror -shared -fPIC -I), "$ROOT/include", '-o', "$dir/libkeybound.so",
        write_file("$dir/fake.c", $code), "$ROOT/t/lib/fake_library.c");
    return $dir;
}

# How keybound comes into nginx: what http { } has of it, and what the TLS server has besides `tls`. Module.pm has its own.
our ($HTTP, $SERVER) = (\&_lua, \&_lua_server);

sub _lua {
    my ($block) = @_;
    my $lib = defined $block->fake_library ? _fake_library($block->fake_library) : $LIB;
    my $engine = _replace($block->engine // 'kb = engine {}');
    return <<"EOC";
    lua_package_path "$LUA/?.lua;$ROOT/t/lib/?.lua;;";
    lua_package_cpath "$lib/?.so;;";
    init_by_lua_block {
        local cjson = require "cjson"
        -- The configuration of the tests' issuer with more options; cjson.null takes one out.
        function options(more)
            local config = cjson.decode([==[@{[ json(\%DEFAULTS) ]}]==])
            for name, value in pairs(more or {}) do
                config[name] = value
                if value == cjson.null then
                    config[name] = nil
                end
            end
            return config
        end
        function engine(more, opts)
            return assert(require("resty.keybound").new(options(more), opts))
        end
        $engine
    }
EOC
}

sub _lua_server {
    my ($tls) = @_;
    return '' if $tls =~ m{location /[ \n]};
    return <<'EOC';
        location / {
            access_by_lua_block { kb:access() }
            content_by_lua_block { ngx.say("passed") }
        }
EOC
}

add_block_preprocessor(sub {
    my ($block) = @_;
    my $tls = $block->tls_only // do {
        my $tls = $block->tls // '';
        my $more = $tls =~ /ssl_verify_client/ ? '' : "        ssl_verify_client optional_no_ca;\n";
        $tls . $more . $SERVER->($tls, $block);
    };
    my $http = $HTTP->($block) . ($block->http_config // '') . <<"EOC" . _replace($block->servers // '');
    server {
        listen 127.0.0.1:$TLS_PORT ssl http2;
        server_name api.test;
$CERTIFICATE
@{[ _replace($tls) ]}
    }
EOC
    $block->set_value(http_config => $http);
    $block->set_value(config => _replace($block->config // ''));
    # Test::Nginx runs it in a package of its own, once nginx is there; under valgrind it does not wait for that.
    $block->set_value(init => 'Keybound::_wait_for_nginx(); package main; ' . ($block->init // '')) if defined $block->init || $ENV{TEST_NGINX_USE_VALGRIND};
});

sub _wait_for_nginx {
    for (1 .. 600) {
        return if IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $PORT);
        sleep 0.05;
    }
    die "nginx did not start\n";
}

# Requests of our own in place of the one that Test::Nginx makes.
my $helper = $Test::Nginx::Util::RunTestHelper;
$Test::Nginx::Util::RunTestHelper = sub {
    my ($block, $dry_run, $i) = @_;
    return $helper->(@_) unless defined $block->calls || defined $block->run;
    # The names in a block's `tokens` are its own.
    %minted = ();
    $block_tokens = $block->tokens // {};
    $realm = defined $block->realm ? 'realm="' . $block->realm . '"' : '';
    %messages = %{ $block->messages // {} };
    @schemes = split ' ', $block->schemes // 'Bearer';
    $algs = $block->algs // 'ES256 PS256 EdDSA';
    my $failed = () = grep { !$_ } Test::More->builder->summary;
    my $done = eval {
        _run_calls($block) if defined $block->calls;
        eval "package main; no strict;\n#line 1 \"--- run\"\n" . $block->run . "\n;1" or die $@ if defined $block->run;
        1;
    };
    Test::More::fail("it runs: $@") unless $done;
    # What `run` calls its tests does not name the block.
    Test::More::diag('in ' . $block->name) if $failed < (() = grep { !$_ } Test::More->builder->summary);
    $Test::Nginx::Util::CheckErrorLog->($block, undef, $dry_run, $i, 0);
};

1;
