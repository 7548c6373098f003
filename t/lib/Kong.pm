# Tests of the Kong plugin: nginx as Kong sets it up, with a small host in t/lib/kong that runs plugins as Kong does. All of Keybound.pm
# is there, too: `use Kong` in its place.
#
# Sections that this adds to those of Keybound.pm; `engine` and `tls_only` are its own:
#
#   --- kong eval    the declarative configuration as Perl data, or as JSON without eval; default: no plugins. $UPSTREAM, $AS, $PKI ...
#                    are replaced. Where it has neither services nor routes, a service `api` with a route `all` for / is added;
#                    _format_version is added, too
#   --- flavour      3.9 (default) or 3.4, whose nginx does not show its SSL object
#   --- rebuild      a plugin gets a new table with its configuration at each request, as it may in Kong
#   --- listener     how the TLS server asks for certificates: silent (default: only a plugin does), asks (always, as by a handshake
#                    modifier), optional_no_ca, optional (nginx verifies by our CA)
#   --- database     kong_reload is as if entities changed in a database: not all that is cached of them is forgotten
#   --- trusted      X-Forwarded-* are believed
#   --- watch        engines() counts
#   --- env          NAME=VALUE lines of nginx's environment, for {vault://env/name}
#   --- plugins      names of the plugins that are loaded; default: the probes, and keybound where it is there
#   --- upstream     locations of the upstream; by default it sends the request's lines back
#   --- tls, --- config, --- http_config   more directives: of the TLS server, of the plain one, of both
#
# Functions:
#
#   keybound(OPTION => VALUE...)    an instance of the plugin for the tests' issuer; undef takes an option out, \undef makes it null
#   routes(NAME => [PLUGIN...]...)  for a configuration: services with a route /NAME/ each, with these plugins, and one for the rest
#   kong_reload(CONFIG)             the host takes another configuration; undef, or the errors
#   kong_errors(CONFIG)             undef, or its errors, nested as the configuration is
#   plugin_errors(NAME, CONFIG)     those of one instance with this `config`
#   kong_rotate(NAME => VALUE...)   secrets: the value of {vault://env/NAME} from the next phase on
#   serialized(N)                   what kong.log.serialize() had to say of each request since the block began, or the last call; waits
#                                   until there are N (1), two seconds at most
#   engines()                       with `watch`: how many engines the workers made, and after a full collection still have: { made, live }; made
#                                   by the master: `inherited`
#   status(PATH)                    the response of the Status API
#   upstream_saw(RESPONSE, PATTERN) header lines that came to the upstream, "name: value" sorted and joined by |
package Kong;

use strict;
use warnings;

use Keybound;
use Test::Nginx::Util qw(add_block_preprocessor master_on);

our @EXPORT = qw(keybound routes kong_reload kong_errors plugin_errors kong_rotate serialized engines status upstream_saw);

sub import {
    my $to = caller;
    no strict 'refs';
    *{"${to}::$_"} = \&{$_} for @EXPORT;
    eval "package $to; Keybound->import; 1" or die $@;
}

# Plugins are loaded in the master, as in Kong.
master_on();

my $LUA = $ENV{KEYBOUND_LUA} // "$ROOT/lua";
our ($STATUS_PORT) = Keybound::_free_ports(1);
my $SERIALIZED = "$RUN/serialized";
my $OPTIONS = "$RUN/kong.json";
my %LISTENERS = (
    silent => '',
    asks => '',
    optional_no_ca => 'ssl_verify_client optional_no_ca;',
    optional => "ssl_verify_client optional; ssl_client_certificate $PKI/ca.crt; ssl_verify_depth 2;",
);
my $ECHO = 'location / { content_by_lua_block { ngx.print(ngx.req.raw_header()) } }';
my @environment;
# lua-nginx 0.10.21 has no such function. Whoever declares a name first says what it stands for: here nothing.
my $NO_SSL_OBJECT = <<'EOL';
require("ffi").cdef [[
    int keybound_ngx_var_get(void *r, const char *name, size_t name_len, char *lowcase_buf, int capture_id,
        const uint8_t **value, size_t *value_len, char **err) __asm__("ngx_http_lua_ffi_var_get");
    void *keybound_ngx_get_ssl(void *r, const char **err) __asm__("is_not_in_lua_nginx_0_10_21");
]]
EOL

# Of a server, as in Kong's nginx-kong.conf.
sub _phases {
    my (@names) = @_;
    return join "\n", map { "${_}_by_lua_block { require('kong.runloop').$_() }" } @names;
}
my $FILTERS = _phases(qw(header_filter body_filter log));
my $PROXY = <<"EOC" . join "\n", map { "proxy_set_header $_;" } (
        default_type "";
        set \$kong_request \$request_id;
        @{[ _phases(qw(rewrite access)) ]}
        $FILTERS
        proxy_http_version 1.1;
        proxy_pass_header Server;
        proxy_pass_header Date;
        proxy_pass http://kong_upstream;
EOC
    'Host $host', 'Connection keep-alive', 'X-Forwarded-For $remote_addr', 'X-Forwarded-Proto $scheme', 'X-Forwarded-Host $host',
    'X-Forwarded-Port $server_port', 'X-Forwarded-Path $uri', 'X-Real-IP $remote_addr');
my $SERVER = <<"EOC";
    uninitialized_variable_warn off;
    error_page 400 404 405 408 411 412 413 414 417 494 /kong_error_handler;
    error_page 500 502 503 504 /kong_error_handler;
    location / {
        $PROXY
    }
    location = /kong_error_handler {
        internal;
        $FILTERS
        content_by_lua_block { require("kong.runloop").handle_error() }
    }
EOC
my $CONTROL = join "\n", 'location = /_kong/engines { content_by_lua_block { require("kong.watch").page() } }', map { <<"EOC" } qw(ready config errors secrets);
    location = /_kong/$_ {
        client_body_buffer_size 1m;
        content_by_lua_block { require("kong.runloop").control("$_") }
    }
EOC

# With what every configuration has, and the names replaced: as JSON.
sub _declarative {
    my ($config) = @_;
    $config = json($config) unless ref $config;
    my %whole = (_format_version => '3.0', %$config);
    $whole{services} = [{ name => 'api', url => 'http://upstream', routes => [{ name => 'all', paths => ['/'] }] }]
        unless $whole{services} || $whole{routes};
    return Keybound::_replace(json(\%whole));
}

# Keybound.pm makes the rest of it.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $listener = $block->listener // 'silent';
    my $verify = $LISTENERS{$listener} // die "no listener $listener\n";
    my @plugins = defined $block->plugins ? split ' ', $block->plugins
        : (qw(probe acl-probe key-auth-probe), -e "$LUA/kong/plugins/keybound/handler.lua" ? 'keybound' : ());
    my @directives = $verify =~ /ssl_verify_client (\w+)/ ? ({ name => 'ssl_verify_client', value => $1 }) : ();
    delete @ENV{@environment};
    my %environment = map { split /=/, $_, 2 } grep { /=/ } split /\n/, $block->env // '';
    @environment = keys %environment;
    @ENV{@environment} = values %environment;
    my $config = _declarative($block->kong // {});
    write_file($OPTIONS, json({
        flavour => $block->flavour // '3.9', plugins => \@plugins, config => json($config), serialized => $SERIALIZED,
        (map { $_ => defined $block->$_ ? JSON::PP::true : JSON::PP::false } qw(rebuild trusted database)),
        asks => $listener eq 'asks' ? JSON::PP::true : JSON::PP::false,
        configuration => { role => 'traditional', database => 'off', nginx_proxy_directives => \@directives,
            lua_ssl_trusted_certificate => ["$PKI/ca.crt"], lua_ssl_verify_depth => 1 },
    }));
    write_file($SERIALIZED, '');
    my $first = ($block->flavour // '') eq '3.4' ? $NO_SSL_OBJECT : '';
    my @watch = defined $block->watch ? map { "require('kong.watch').$_()" } qw(install fork) : ('', '');
    $block->set_value(engine => join "\n", $first, $watch[0], "kong = require('kong.runloop').init('$OPTIONS')", $watch[1]);
    $block->set_value(http_config => <<'EOC' . ($block->http_config // ''));
    lua_shared_dict kong 5m;
    lua_shared_dict kong_db_cache 5m;
    lua_shared_dict keybound 5m;
    lua_shared_dict keybound_metrics 1m;
    underscores_in_headers on;
    init_worker_by_lua_block { require("kong.runloop").init_worker() }
    upstream kong_upstream {
        server unix:$TEST_NGINX_SERVROOT/logs/upstream.sock;
        keepalive 8;
    }
EOC
    $block->set_value(servers => <<"EOC" . ($block->servers // ''));
    server {
        listen \$UPSTREAM;
        keepalive_requests 1000000;
        @{[ $block->upstream // $ECHO ]}
    }
    server {
        listen 127.0.0.1:$STATUS_PORT;
        location / { content_by_lua_block { require("kong.runloop").status() } }
    }
EOC
    # Sessions as by Kong's defaults: tickets, and a cache that workers share.
    $block->set_value(tls_only => <<"EOC" . ($block->tls // ''));
    ssl_session_cache shared:SSL:10m;
    ssl_session_timeout 1d;
    $verify
    ssl_certificate_by_lua_block { require("kong.runloop").certificate() }
    $SERVER
EOC
    $block->set_value(config => $SERVER . $CONTROL . ($block->config // ''));
});

# nginx listens before its workers have begun.
my $helper = $Test::Nginx::Util::RunTestHelper;
$Test::Nginx::Util::RunTestHelper = sub {
    my ($block) = @_;
    if (my $errors = _control('ready', '{}')) {
        die json($errors);
    }
    return $helper->(@_);
};

sub _control {
    my ($name, $json) = @_;
    my $response = call(plain => 1, method => 'POST', path => "/_kong/$name", data => $json);
    die "/_kong/$name: " . ($response->{status} // $response->{error}) . " $response->{body}\n" if ($response->{status} // 0) != 200;
    return json($response->{body})->{errors};
}

sub kong_reload { return _control('config', _declarative($_[0])) }
sub kong_errors { return _control('errors', _declarative($_[0])) }
sub kong_rotate { _control('secrets', json({ @_ })); return }

sub plugin_errors {
    my ($name, $config) = @_;
    my $errors = kong_errors({ plugins => [{ name => $name, config => $config }] }) // return;
    return $errors->{plugins}[0];
}

sub keybound {
    my (%more) = @_;
    my %config = (%Keybound::DEFAULTS, jwks => json($Keybound::DEFAULTS{jwks}), %more);
    delete @config{ grep { !defined $config{$_} } keys %config };
    $_ = undef for grep { ref $_ eq 'SCALAR' && !defined $$_ } values %config;
    return { name => 'keybound', config => \%config };
}

sub routes {
    my (%plugins) = @_;
    return (services => [{ name => 'api', url => 'http://upstream', routes => [{ name => 'rest', paths => ['/'] },
        map { { name => $_, paths => ["/$_/"], plugins => $plugins{$_} } } sort keys %plugins] }]);
}

# The last phase of a request comes after its response.
sub serialized {
    my ($n) = (@_, 1);
    my @lines;
    for (1 .. 40) {
        select undef, undef, undef, 0.05;
        @lines = split /\n/, read_file($SERIALIZED);
        last if @lines >= $n;
    }
    write_file($SERIALIZED, '');
    return map { json($_) } @lines;
}

sub engines {
    my %of;
    for (1 .. 200) {
        my $one = json(call(plain => 1, path => '/_kong/engines')->{body});
        $of{$one->{pid}} = $one;
        last if keys %of >= $one->{workers};
    }
    my %sum;
    for my $one (values %of) { $sum{$_} += $one->{$_} for qw(made live inherited) }
    return \%sum;
}

sub status {
    my ($status, $out, $err) = command('', qw(curl -q -sS -i --noproxy * --max-time 10), "http://127.0.0.1:$STATUS_PORT$_[0]");
    return { %{ Keybound::response($out) }, curl => $status, error => $err };
}

sub upstream_saw {
    my ($response, $pattern) = @_;
    return join '|', sort map { /^([^:]+):\s*(.*)$/ ? lc($1) . ": $2" : $_ } grep { /^(?:$pattern):/i } split /\r?\n/, $response->{body};
}

1;
