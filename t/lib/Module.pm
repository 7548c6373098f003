# Tests of the nginx module: nginx without Lua, and keybound in it by the module's directives. All of Keybound.pm is there, too: `use Module`
# in its place.
#
# Sections that differ from those of Keybound.pm:
#
#   --- engine       NAME: [BASE] [JSON]... what is in the file $KB/NAME.json: the options of the BASE, with those of JSON, where null takes
#                    one out. BASE: nothing: the tests' issuer, whose keys are there; keys: they are fetched at $AS; tls: introspection at
#                    $AS as `gateway` over mutual TLS; basic: as `gateway-basic` with a secret; peer: the same at $PEER; web: logins at $AS
#                    as `web`. Default: `kb:`. A location /NAME is added for each but kb, unless `tls` has one
#   --- tls          `keybound on; keybound_config $KB/kb.json;` are added to the server, unless `tls` has such a line that is not indented;
#                    and a `location /` that passes requests on to $UPSTREAM, unless there is one
#   --- fetch        lines LOCATION [CERTIFICATE]: a keybound_fetch and its location each, in the TLS server. Default: /_as, and /_NAME NAME
#                    for the certificate of the BASE, where an engine needs them; `none`: none of them
#   --- servers      the upstream is added, unless there is one. It says `passed`, and what it saw of a few headers (`echoed`)
#
# In `tls`, `servers`, `config` and `http_config` $KB is where the engines are, $FETCH what a location of keybound_fetch holds besides its
# certificate, $FETCH_OF_BOTH the same for servers of either CA, $PLAIN the address of a peer without TLS, whose log has all headers
# (`plain_saw`), $DNS that of a resolver which says 127.0.0.1 for each name, $RUN as ever, and $PROXY stands for `proxy_pass http://$UPSTREAM`.
package Module;

use strict;
use warnings;

my (%built, $root);
BEGIN {
    use Cwd qw(abs_path);
    use File::Basename qw(dirname);
    $root = abs_path(dirname(__FILE__) . '/../..');
    $built{target} = $ENV{CARGO_TARGET_DIR} // "$root/target";
    $built{module} = $ENV{KEYBOUND_MODULE} // "$built{target}/nginx/ngx_http_keybound_module.so";
    $built{lib} = $ENV{KEYBOUND_LIB} // "$built{target}/release";
    # The module asks for the library by its soname, where the system's loader looks.
    $ENV{TEST_NGINX_LOAD_MODULES} = $built{module};
}

use IO::Socket::INET;
use Keybound;
use Test::More ();
use Test::Nginx::Util qw(add_block_preprocessor bail_out);
use Time::HiRes ();

our @EXPORT = qw(engine_file configtest loads refuses_to_load passes refuses echoed plain_saw until_true master children hup pause opaque
    introspections fetched whole_log);

sub import {
    my $to = caller;
    no strict 'refs';
    *{"${to}::$_"} = \&{$_} for @EXPORT;
    eval "package $to; Keybound->import; 1" or die $@;
}

-r $built{module} or bail_out("$built{module} is not there: run make nginx-module");
mkdir "$RUN/lib";
symlink "$built{lib}/libkeybound.so", "$RUN/lib/libkeybound.so.1" or die "libkeybound.so.1: $!\n";
$ENV{LD_LIBRARY_PATH} = join ':', "$RUN/lib", grep { defined && length } $ENV{LD_LIBRARY_PATH};
mkdir my $KB = "$RUN/engines";


# --- The engines' files

my %CERTIFICATE = (tls => 'gateway', web => 'web');
my %BASES = (
    '' => sub { %Keybound::DEFAULTS },
    keys => sub { issuer => _as(), audience_required => ['https://api.test'] },
    tls => sub { $_[0]{keys}->(), client_id => 'gateway', client_auth => 'tls_client_auth', tls_client_auth_cert_id => 'gateway',
        client_certificates => { gateway => certificate('gateway') } },
    basic => sub { $_[0]{keys}->(), client_id => 'gateway-basic', client_auth => 'client_secret_basic', client_secret => 'gateway-basic-secret' },
    peer => sub { $_[0]{basic}->($_[0]), issuer => _peer(), jwks_uri => _peer() . '/jwks', introspection_endpoint => _peer() . '/introspect' },
    web => sub { $_[0]{keys}->(), client_id => 'web', client_auth => 'tls_client_auth', tls_client_auth_cert_id => 'web',
        client_certificates => { web => certificate('web') }, auth_methods => [qw(session authorization_code bearer)],
        redirect_uri => 'https://api.test/callback', scopes => [qw(openid read)], session_secret => 'the-secret-of-sessions-0123456789',
        session_bind_certificate => JSON::PP::true },
);
sub _as { return as_start()->{issuer} }
sub _peer { return 'https://localhost:' . peer_start()->{port} }
sub certificate { my ($name) = @_; return { certificate => "$PKI/$name.crt", private_key => "$PKI/$name.key" } }

my $RELAXED = JSON::PP->new->utf8->relaxed;

# engine_file(NAME, BASE, OPTIONS): writes it; its path
sub engine_file {
    my ($name, $base, $more) = @_;
    my $made = $BASES{$base} // die "no base $base\n";
    my %options = ($made->(\%BASES), %{ $more // {} });
    delete @options{ grep { !defined $options{$_} } keys %options };
    return write_file("$KB/$name.json", json(\%options));
}

# The engines of the text, as [NAME, BASE].
sub _engines {
    my ($text) = @_;
    my @made;
    for (grep { /\S/ } split /^(?=\w+:)/m, $text) {
        my ($name, $base, $options) = /^(\w+):\s*(\w*)\s*(\{.*\})?\s*\z/s or die "no engine: $_\n";
        engine_file($name, $base, $options && $RELAXED->decode(Keybound::_replace($options)));
        push @made, [$name, $base];
    }
    return @made;
}


# --- The configuration of nginx

my $FETCH = <<"EOC";
            internal;
            proxy_pass https://\$fetch_to\$keybound_fetch_uri;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$keybound_fetch_host;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate $PKI/ca.crt;
            proxy_ssl_server_name on;
            proxy_ssl_name localhost;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_ssl_session_reuse off;
            proxy_read_timeout 15s;
EOC

my $UPSTREAM = <<'EOC';
    server {
        listen $UPSTREAM;
        server_name upstream;
        access_log off;
        underscores_in_headers on;
        client_max_body_size 30m;
        large_client_header_buffers 4 64k;
        location / {
            return 200 "passed\nauthorization: $http_authorization\ncookie: $http_cookie\nx-user: $http_x_user\nx-email: $http_x_email\nx-other: $http_x_other\nx-decision: $http_x_decision\nx-reason: $http_x_reason\nx-claim: $http_x_claim\nx-thumbprint: $http_x_thumbprint\nx-client: $http_x_client\nx-scope: $http_x_scope\nmethod: $request_method\nuri: $request_uri\nlength: $content_length\n";
        }
    }
EOC

sub _own {
    my ($text) = @_;
    $text =~ s/\$KB\b/$KB/g;
    $text =~ s/\$PROXY\b/proxy_pass http:\/\/\$UPSTREAM/g;
    $text =~ s/\$FETCH_OF_BOTH\b/$FETCH =~ s{ca\.crt}{roots.crt}r/ge;
    $text =~ s/\$FETCH\b/$FETCH/g;
    $text =~ s/\$PLAIN\b/'127.0.0.1:' . peer_start('plain', '--plain')->{port}/ge;
    $text =~ s/\$DNS\b/'127.0.0.1:' . dns_start()/ge;
    $text =~ s/\$RUN\b/$RUN/g;
    return $text;
}

my @engines;

# Before what Keybound.pm does with the sections.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value($_ => _own($block->$_)) for grep { defined $block->$_ } qw(tls tls_only servers config);
    $block->set_value(http_config => Keybound::_replace(_own($block->http_config))) if defined $block->http_config;
    @engines = _engines($block->engine // 'kb:');
    my $servers = $block->servers // '';
    $block->set_value(servers => $servers . $UPSTREAM) unless $servers =~ /listen \$UPSTREAM/;
});

my $MAP = <<'EOC';
    map $keybound_fetch_host $fetch_to { volatile; default 127.0.0.1:9; ~^localhost:(?<fetch_port>\d+)$ 127.0.0.1:$fetch_port; }
EOC
$Keybound::HTTP = sub { return $MAP };
$Keybound::SERVER = sub {
    my ($tls, $block) = @_;
    my $more = '';
    $more .= "keybound on;\n" unless $tls =~ /^keybound\s/m;
    $more .= "keybound_config $KB/kb.json;\n" unless $tls =~ /^keybound_config\s/m;
    for (_fetch($block)) {
        my ($location, $name) = @$_;
        $more .= join ' ', 'keybound_fetch', $location, ($name // ()), ";\n";
        $more .= "location = $location { $FETCH" . ($name ? "proxy_ssl_certificate $PKI/$name.crt; proxy_ssl_certificate_key $PKI/$name.key;" : '') . " }\n";
    }
    for (grep { $_->[0] ne 'kb' && $tls !~ m{location (?:= )?/$_->[0]\b} } @engines) {
        $more .= "location /$_->[0] { keybound_config $KB/$_->[0].json; proxy_pass http://\$UPSTREAM; }\n";
    }
    $more .= "location / { proxy_pass http://\$UPSTREAM; }\n" unless $tls =~ m{location /[ \n]};
    return $more;
};

sub _fetch {
    my ($block) = @_;
    if (defined(my $fetch = $block->fetch)) {
        return map { [split] } grep { /\S/ && !/^none$/ } split /\n/, $fetch;
    }
    my %names = map { $_ => 1 } map { $CERTIFICATE{ $_->[1] } // () } @engines;
    return ((grep { $_->[1] ne '' } @engines) ? ['/_as'] : (), map { ["/_$_", $_] } sort keys %names);
}

# configtest(HTTP, SERVER, LOCATION, MAIN): what nginx -t says: (exit status, output, the file, the number of the line that begins with X)
sub configtest {
    my ($http, $server, $location, $main) = map { Keybound::_replace(_own($_ // '')) } @_[0 .. 3];
    my $conf = "$RUN/configtest/nginx.conf";
    mkdir $_ for "$RUN/configtest", "$RUN/configtest/logs";
    my $text = <<"EOC";
load_module $built{module};
pid $RUN/configtest/nginx.pid;
$main
events { }
http {
access_log off;
$MAP
client_body_temp_path $RUN/configtest/body;
proxy_temp_path $RUN/configtest/proxy;
fastcgi_temp_path $RUN/configtest/fastcgi;
scgi_temp_path $RUN/configtest/scgi;
uwsgi_temp_path $RUN/configtest/uwsgi;
$http
server {
listen unix:$RUN/configtest/socket;
$server
location /x {
$location
}
}
}
EOC
    my @lines = split /\n/, $text;
    my ($marked) = grep { $lines[$_ - 1] =~ /^X / } 1 .. @lines;
    $text =~ s/^X //mg;
    write_file($conf, $text);
    my ($status, $out, $err) = command('', $ENV{TEST_NGINX_BINARY}, '-t', '-e', 'stderr', '-p', "$RUN/configtest/", '-c', $conf);
    return ($status, $out . $err, $conf, $marked);
}

# loads(NAME, HTTP, SERVER, LOCATION), refuses_to_load(NAME, PATTERN, HTTP, SERVER, LOCATION): with an X at the beginning of a line, the message
# is of that line
sub loads {
    my ($name, @parts) = @_;
    my ($status, $said) = configtest(@parts);
    Test::More::is($status, 0, "$name: loads") or Test::More::diag($said);
    return $said;
}
sub refuses_to_load {
    my ($name, $pattern, @parts) = @_;
    my ($status, $said, $conf, $line) = configtest(@parts);
    my ($emerg) = $said =~ /^(.*\[emerg\].*)$/m;
    Test::More::is($status, 1, "$name: is refused") or Test::More::diag($said);
    Test::More::like($emerg // $said, $pattern, "$name: the message says what");
    Test::More::like($emerg // $said, qr/ in \Q$conf\E:$line\b/, "$name: and where") if $line;
}


# --- Requests

# passes(CALL, NAME), refuses(CALL, EXPECTED, NAME): a call and all that is to be seen of it, EXPECTED as in `calls`
sub passes { my ($call, $name) = @_; return refuses($call, '200', $name) }
sub refuses {
    my ($call, $expected, $name) = @_;
    log_mark();
    my $response = call(%$call);
    $response->{head} = 1 if ($call->{method} // '') eq 'HEAD';
    check($response, $expected, $name);
    return $response;
}

# echoed(RESPONSE): what the upstream saw, what is empty left out
sub echoed { return { $_[0]{body} =~ /^([\w-]+): (.+)$/mg } }

# plain_saw(PATTERN): header lines of the last request to $PLAIN, "name: value" sorted and joined by |
sub plain_saw {
    my ($pattern) = @_;
    my ($last) = sort { $b->{time} <=> $a->{time} } map { @{ $_->{requests} } } @{ peer_log('plain')->{log} };
    return join '|', map { "$_: $last->{headers}{$_}" } sort grep { /^(?:$pattern)$/ } keys %{ $last->{headers} };
}

# Of the authorization server: an opaque token; the introspections, and how often metadata and keys were fetched
sub opaque { return { as => 'any', cert => 'client', resource => 'opaque', @_ } }
sub introspections { return asked('/token/introspection', @_) }
sub fetched { return join ' ', map { scalar asked($_, @_) } '/.well-known/openid-configuration', '/jwks' }


# --- nginx

sub pause { Time::HiRes::sleep($_[0]) }
sub whole_log { return read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log") }

# until_true(SECONDS, CODE): what CODE gives in the end
sub until_true {
    my ($seconds, $code) = @_;
    my $end = Time::HiRes::time() + $seconds;
    while (1) {
        my $got = $code->();
        return $got if $got || Time::HiRes::time() > $end;
        pause(0.02);
    }
}

# master(): its process; children(PID): the workers of one that do not shut down
sub master { return read_file("$ENV{TEST_NGINX_SERVROOT}/logs/nginx.pid") + 0 }
sub children {
    my ($of) = @_;
    $of //= master();
    my $read = sub { return (eval { read_file("/proc/$_[0]") }) // '' };
    return grep { $read->("$_/stat") =~ /^\d+ \(nginx\) [^Z] $of / && $read->("$_/cmdline") =~ /worker process(?! is shutting down)/ } map { m{(\d+)} } glob '/proc/[0-9]*';
}

# hup(): reloads, and waits until there are only new workers that take requests
sub hup {
    my ($workers) = read_file("$ENV{TEST_NGINX_SERVROOT}/conf/nginx.conf") =~ /^worker_processes\s+(\d+)/;
    my %old = map { $_ => 1 } children();
    kill HUP => master() or die "HUP: $!\n";
    return until_true(15, sub { my @now = children(); @now == $workers && !grep { $old{$_} } @now });
}


# --- A resolver

my ($dns, $dns_port);
my $owner = $$;

# dns_start(): its port. Each name is 127.0.0.1.
sub dns_start {
    return $dns_port if $dns;
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'udp') or die "UDP: $!\n";
    $dns_port = $socket->sockport;
    $dns = fork // die "fork: $!\n";
    return $dns_port if $dns;
    $SIG{$_} = 'DEFAULT' for qw(HUP INT PIPE TERM);
    while (defined(my $from = $socket->recv(my $query, 512))) {
        my ($id, undef, $count) = unpack 'nnn', $query;
        my ($question) = substr($query, 12) =~ /^(.*?\0....)/s;
        my $type = unpack 'n', substr $question, -4, 2;
        my $answer = $type == 1 ? pack 'nnnNnC4', 0xc00c, 1, 1, 60, 4, 127, 0, 0, 1 : '';
        $socket->send(pack('n6', $id, 0x8180, 1, length $answer ? 1 : 0, 0, 0) . $question . $answer, 0, $from);
    }
    POSIX::_exit(0);
}

END {
    if ($dns && $$ == $owner) {
        local $?;
        kill TERM => $dns;
        waitpid $dns, 0;
    }
}

1;
