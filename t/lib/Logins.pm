# What the tests of logins and sessions share: `use Logins` behind `use Keybound`.
#
# In `engine` there is logins(MORE, OPTS): an engine that logs users in at $AS as the client `web` and binds their sessions to their
# certificates, with more options (cjson.null takes one out); by default `kb` is one. `kb` is behind each path, and the engine NAME behind
# /at/NAME: its callback is there, too, when it is made by at(NAME, MORE, OPTS). The upstream says what it saw, as JSON.
#
# Each block begins with empty jars, and ends with a look at nginx's log: of all cookies, tokens and secrets that the functions below have
# met, none may be there.
package Logins;

use strict;
use warnings;

use Keybound;
use MIME::Base64 ();
use Time::HiRes ();
use Test::Nginx::Util;
use Test::More ();

our @EXPORT = qw($FLOW sees seen begun returns works cookie cookies jar_of query parts statuses known tampered stolen);

sub import {
    my $to = caller;
    no strict 'refs';
    for my $name (@EXPORT) {
        my ($sigil, $word) = $name =~ /^(\$?)(.*)/;
        *{"${to}::$word"} = $sigil ? \${$word} : \&{$word};
    }
}

# What a whole login is, as `sees` writes it.
our $FLOW = '302 login_started, 302 login_completed, 200';

my $LUA = <<'EOL';
SECRET = "the-secret-of-sessions-0123456789"
function certificate(name)
    return { certificate = "$PKI/" .. name .. ".crt", private_key = "$PKI/" .. name .. ".key" }
end
function logins(more, opts)
    local config = { issuer = "$AS", jwks = cjson.null, ssl_trusted_certificate = "$PKI/ca.crt", auth_methods = { "session", "authorization_code", "bearer" },
        client_id = "web", client_auth = "tls_client_auth", tls_client_auth_cert_id = "web", client_certificates = { web = certificate "web" },
        redirect_uri = "https://api.test/callback", scopes = { "openid", "read" }, session_secret = SECRET, session_bind_certificate = true }
    for name, value in pairs(more or {}) do
        config[name] = value
    end
    return engine(config, opts or { store = "logins" })
end
function at(name, more, opts)
    more = more or {}
    more.redirect_uri = more.redirect_uri or "https://api.test/at/" .. name .. "/callback"
    _G[name] = logins(more, opts)
end
EOL

# The names of the engines that have a callback of their own are registered with it.
add_block_preprocessor(sub {
    my ($block) = @_;
    # With Kong.pm and Module.pm only the functions: the configuration is theirs.
    return if $INC{'Kong.pm'} || $INC{'Module.pm'};
    my $engine = $block->engine // 'kb = logins {}';
    my @names = $engine =~ /\bat\(?\s*"(\w+)"/g;
    if (@names) {
        my @uris = map { "https://api.test$_/callback" } '', map { "/at/$_" } @names;
        as_control('/redirect', { client_id => 'web', redirect_uris => \@uris });
    }
    $block->set_value(engine => $LUA . $engine);
    $block->set_value(http_config => "lua_shared_dict logins 4m;\nlarge_client_header_buffers 4 20k;\n" . ($block->http_config // ''));
    $block->set_value(tls => ($block->tls // '') . (($block->tls // '') =~ m{location / } ? '' : <<'EOC'));
        set $kb kb;
        location / {
            access_by_lua_block { _G[ngx.var.kb]:access() }
            content_by_lua_block {
                ngx.req.read_body()
                local headers = ngx.req.get_headers()
                ngx.header["Content-Type"] = "application/json"
                ngx.print(require("cjson").encode { passed = ngx.var.kb, method = ngx.req.get_method(), target = ngx.var.request_uri, body = ngx.req.get_body_data(),
                    authorization = headers.authorization, cookie = headers.cookie, thumbprint = ngx.ctx.keybound.claims.cnf, sub = ngx.ctx.keybound.claims.sub })
            }
        }
        location ~ ^/at/(?<name>\w+) {
            set $kb $name;
            rewrite ^ / last;
        }
EOC
});

# What must not be in a log, by what it is.
my %secrets;
sub known { my ($what, @values) = @_; $secrets{$_} = $what for grep { defined && length > 8 } @values }

sub _is_quiet {
    # nginx itself writes the line of a request, and in it the code of a callback.
    my $log = read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log") =~ s/, (?:request: ".*? HTTP\/[\d.]+|referrer: "[^"]*)"//gr;
    my %found = map { $secrets{$_} => 1 } grep { index($log, $_) >= 0 } keys %secrets;
    $found{'a JWT'} = 1 if $log =~ /eyJ[\w-]{8,}/;
    Test::More::is(join(', ', sort keys %found), '', 'nothing secret in the log');
}

my $helper = $Test::Nginx::Util::RunTestHelper;
$Test::Nginx::Util::RunTestHelper = sub {
    my ($block) = @_;
    unlink glob "$RUN/*.cookies";
    %secrets = ('the-secret-of-sessions-0123456789' => 'the secret of the sessions', 'web-secret-secret' => 'the secret of the client');
    my @result = $helper->(@_);
    _is_quiet() if defined $block->run || defined $block->calls;
    return @result;
};

# What keybound logged since the last mark, of refusals and answers: "STATUS REASON", and the details
sub _logged {
    return map { /keybound(?:: |\] )(?:refused|answered), reason=(\w+), status=(\d+)/ ? [ "$2 $1", /, detail=([^,]*)/ ? $1 : '' ] : () } split /\n/, log_since();
}

# sees(NAME, EXPECTED, %how): browses, and compares all answers of the gateway: each is STATUS REASON, or 200 for what passed; with a
# comma between them. The details that were logged are in `details`. %how: as for browse; without `cert` it is `client`, `-` is none.
sub sees {
    my ($name, $expected, %how) = @_;
    log_mark();
    my $got = browse(cert => 'client', %how);
    my @logged = _logged();
    my @seen;
    for my $hop (grep { $_->{url} =~ m{^https://[a-z]+\.test/} } @{ $got->{hops} }) {
        known('a cookie', map { /^[^=]+=([^;]+)/ } @{ $hop->{set_cookie} });
        my $logged = @logged && $logged[0][0] =~ /^$hop->{status} / ? shift @logged : undef;
        push @seen, $logged ? $logged->[0] : $hop->{status};
        push @{ $got->{details} }, $logged->[1] if $logged;
    }
    my @wrong = (map({ "logged $_->[0]" } @logged), _wrong($got, $seen[-1] // ''), defined $got->{error} ? "error $got->{error}" : ());
    known('a token', (seen($got)->{authorization} // '') =~ /(\S+)$/) if @seen && $seen[-1] eq '200';
    Test::More::is(join(' BUT ', join(', ', @seen), @wrong), $expected, $name);
    return $got;
}

# What every answer of a login is.
sub _wrong {
    my ($got, $seen) = @_;
    my ($status, $reason) = split ' ', $seen;
    return () unless $reason;
    my ($headers, @wrong) = ($got->{headers});
    my %expected = ('cache-control' => 'no-store');
    my $is_page = ($headers->{'content-type'} // '') =~ /^text\/html/;
    $expected{'referrer-policy'} = 'no-referrer' if $is_page || $status < 400;
    @expected{qw(x-content-type-options content-security-policy)} = ('nosniff', "default-src 'none'; frame-ancestors 'none'") if $is_page && $status != 302;
    $expected{'content-type'} = $is_page ? 'text/html; charset=utf-8' : 'application/json; charset=utf-8';
    # nginx's own redirect, which has a page of its own.
    $expected{'content-type'} = 'text/html' if $INC{'Module.pm'} && $status == 302;
    for my $header (sort keys %expected) {
        my $value = $headers->{$header} // 'absent';
        push @wrong, "$header: $value" if $value ne $expected{$header};
    }
    my $text = join "\n", $got->{body}, map { ref ? @$_ : $_ } values %$headers;
    push @wrong, 'the reason is told' if $text =~ /\b\Q$reason\E\b/ && $text !~ /display_errors/;
    push @wrong, 'no location' if ($status == 302) != defined $headers->{location};
    return @wrong;
}

# What the upstream saw of a request that passed.
sub seen {
    my ($got) = @_;
    return ($got->{status} // 0) == 200 && ($got->{body} // '') =~ /^\{.*"passed"/ ? json($got->{body}) : {};
}

# begun(%how): a user's login up to the callback, which is not asked for: its URL. A session that the jar has is forgotten first
sub begun {
    my (%how) = @_;
    jar($how{jar}, [ grep { $_->{name} !~ /^__Host-session(?:_\d)?$/ } @{ jar($how{jar}) } ]);
    my $path = $how{path} // '/';
    my ($prefix) = $path =~ m{^(/at/\w+)};
    my $callback = "https://api.test" . ($prefix // '') . '/callback';
    my $got = browse(cert => 'client', user => 'alice', stop_at => $callback, %how);
    known('a cookie', map { /^[^=]+=([^;]+)/ } map { @{ $_->{set_cookie} } } @{ $got->{hops} });
    known('a code', query($got->{stopped})->{code}) if $got->{stopped};
    return $got->{stopped} // die 'the login did not come back: ' . json($got) . "\n";
}

# returns(NAME, EXPECTED, URL, %how): a browser comes back with this URL, and no further; as from the authorization server
sub returns {
    my ($name, $expected, $url, %how) = @_;
    return sees($name, $expected, url => $url, no_follow => 1, from => as_start()->{issuer}, %how);
}

# works(NAME, JAR, %how): the session in this jar is good
sub works {
    my ($name, $jar, %how) = @_;
    return sees("$name: the session of $jar works", '200', jar => $jar, path => '/works', fetch => 1, %how);
}

# query(URL): its parameters
sub query {
    my ($url) = @_;
    my ($query) = $url =~ /\?([^#]*)/;
    return { map { my ($name, $value) = map { s/\+/ /gr =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger } split /=/, $_, 2; ($name => $value) } split /&/, $query // '' };
}

# cookie(JAR, PATTERN): the value of the one cookie for api.test whose name is matched wholly; cookies(JAR): the header
my $SESSION = qr/__Host-session/;
sub cookie {
    my ($jar, $pattern) = @_;
    $pattern //= $SESSION;
    my @found = grep { $_->{domain} eq 'api.test' && $_->{name} =~ /^$pattern$/ } @{ jar($jar) };
    return @found == 1 ? $found[0]{value} : undef;
}
sub cookies { return join '; ', map { "$_->{name}=$_->{value}" } grep { $_->{domain} eq 'api.test' } @{ jar($_[0]) } }

# jar_of(JAR, PAIRS): a jar with these cookies, name and value, as the gateway would set them
sub jar_of {
    my ($jar, @pairs) = @_;
    my @cookies;
    while (my ($name, $value) = splice @pairs, 0, 2) {
        push @cookies, { name => $name, value => $value, domain => 'api.test', host_only => \1, path => '/', secure => \1, http_only => \1, same_site => 'Lax', expires => undef };
    }
    jar($jar, \@cookies);
}

# parts(JAR): [name, value] of each part of the session's cookie, in order
sub parts {
    my ($jar) = @_;
    return sort { $a->[0] cmp $b->[0] } map { [ $_->{name}, $_->{value} ] } grep { $_->{name} =~ /^$SESSION(?:_[2-4])?$/ } @{ jar($jar) };
}

# statuses(COOKIES, %call): many requests on one connection, each with one of these Cookie headers: the statuses, in order
sub statuses {
    my ($cookies, %call) = @_;
    my @words = ('silent', 'http1.1', "cacert = \"$PKI/ca.crt\"", "connect-to = \"::127.0.0.1:$Keybound::TLS_PORT\"", 'globoff', 'output = "/dev/null"',
        'write-out = "%{http_code}\n"', 'max-time = 60');
    push @words, "cert = \"$PKI/$call{cert}.crt\"", "key = \"$PKI/$call{cert}.key\"" if ($call{cert} // '-') ne '-';
    my @config = map { my $cookie = $_ =~ s/(["\\])/\\$1/gr; join "\n", @words, "header = \"Cookie: $cookie\"", 'url = "https://api.test' . ($call{path} // '/') . '"' } @$cookies;
    my $file = write_file("$RUN/statuses", join("\nnext\n", @config) . "\n");
    my ($status, $out, $err) = command('', qw(curl -q --noproxy * -K), $file);
    die "curl: $status $err\n" if $status;
    return split /\n/, $out;
}

# tampered(CHANGE, CODE): with an authorization server that answers so at its token endpoint
sub tampered {
    my ($change, $code) = @_;
    as_control('/tamper', { path => '/token', %$change });
    my $done = eval { $code->(); 1 };
    as_control('/tamper');
    die $@ unless $done;
}

# stolen(JAR, TO): the cookies of a browser in another one, those for the gateway
sub stolen {
    my ($jar, $to) = @_;
    jar($to, [ grep { $_->{domain} eq 'api.test' } @{ jar($jar) } ]);
}

# --- Programs that have the cookies of a browser: by curl, which is faster, and many at once

push @EXPORT, qw(visit crowd bearer claims events outcome shown granted_by_as metric until_s);

my %AS_PAGE = ('Accept' => 'text/html', 'Sec-Fetch-Mode' => 'navigate', 'Sec-Fetch-Dest' => 'document', 'Sec-Fetch-Site' => 'none');
my %AS_FETCH = ('Accept' => 'application/json', 'Sec-Fetch-Mode' => 'cors', 'Sec-Fetch-Dest' => 'empty', 'Sec-Fetch-Site' => 'same-origin');

sub _with_cookies {
    my (%call) = @_;
    my ($jar, $stolen, $page) = delete @call{qw(jar stolen page)};
    my %headers = $page ? %AS_PAGE : %AS_FETCH;
    my $cookies = join '; ', grep { length } map { cookies($_) } grep { defined } $jar, $stolen;
    my @headers = map { "$_: $headers{$_}" } sort keys %headers;
    return (cert => 'client', %call, headers => [ @headers, $cookies eq '' ? () : "Cookie: $cookies", @{ $call{headers} // [] } ]);
}

# Takes the cookies of an answer into a jar.
sub _keep {
    my ($jar, $response) = @_;
    my @cookies = @{ jar($jar) };
    for my $line (header($response, 'Set-Cookie')) {
        my ($name, $value) = $line =~ /^([^=;]+)=([^;]*)/ or next;
        @cookies = grep { $_->{name} ne $name || $_->{domain} ne 'api.test' } @cookies;
        next if $line =~ /Expires=Thu, 01 Jan 1970/;
        known('a cookie', $value);
        push @cookies, { name => $name, value => $value, domain => 'api.test', host_only => \1, path => '/', secure => \1, http_only => \1, same_site => 'Lax',
            expires => undef };
    }
    jar($jar, \@cookies);
}

# visit(%call): `call` with the certificate `client` and the cookies of `jar`, which takes those of the answer; as fetch() of a page asks, with
# `page` as a browser goes there; stolen: a jar that takes nothing
sub visit {
    my (%call) = @_;
    my $response = call(_with_cookies(%call));
    _keep($call{jar}, $response) if $call{jar};
    known('a token', bearer($response));
    return $response;
}

# crowd(N, %call): the same N times at once, each with its connection; the jar stays as it is
sub crowd {
    my ($n, %call) = @_;
    my @started = map { Keybound::start_command('', Keybound::_curl_words(_with_cookies(%call)), '-i') } 1 .. $n;
    my @responses = map { Keybound::response((Keybound::finish_command($_))[1]) } @started;
    known('a token', bearer($_)) for @responses;
    return @responses;
}

# bearer(RESPONSE): the access token that the upstream got; claims(TOKEN): of a JWT
sub bearer { return (seen($_[0])->{authorization} // '') =~ /^Bearer (\S+)$/ ? $1 : undef }
sub claims {
    my $payload = (split /\./, $_[0] // '')[1] // return {};
    return json(MIME::Base64::decode_base64($payload =~ tr{-_}{+/}r . '=' x (-length($payload) % 4)));
}

# events(): what keybound logged since the last mark, as "STATUS REASON"; outcome(RESPONSE): the status, and these
sub events { return map { $_->[0] } _logged() }
sub outcome { return join ' | ', $_[0]{status} // "no answer: $_[0]{error}", events() }

# shown(PATH, NAME): what the authorization server saw at PATH, one request a line: how, by whom, with which certificate, and the answer
sub shown {
    my ($path, $as) = @_;
    my %certificates = map { thumbprint($_) => $_ } qw(web web-par web-self-signed client thief);
    return join "\n", map {
        my $one = $_;
        my $certificate = $one->{certificate} ? $certificates{ $one->{certificate}{'x5t#S256'} } // 'unknown' : 'none';
        join ' ', $one->{grant_type} // $one->{token_type_hint} // '-', "client_id=" . ($one->{client_id} // '-'), "certificate=$certificate", "port=$one->{port}",
            $one->{status} // 'unanswered';
    } asked($path, $as);
}

# granted_by_as(GRANT): how often the authorization server was asked for it
sub granted_by_as { return scalar grep { ($_->{grant_type} // '') eq $_[0] } asked('/token') }

# metric(PATTERN): the sum of the samples that begin so, in the zone `metrics`; what is counted gets there within a second
sub metric {
    my ($pattern) = @_;
    my $sum = 0;
    $sum += $_ for call(plain => 1, path => '/metrics')->{body} =~ /^$pattern.* (\S+)$/mg;
    return $sum;
}

# until_s(TIME): waits for it
sub until_s {
    my $left = $_[0] - Time::HiRes::time();
    Time::HiRes::sleep($left) if $left > 0;
}

1;
