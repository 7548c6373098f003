# Connections to authorization servers: whom they trust, which certificate they show, and which of them are kept alive for whom.
use Keybound;
use Test::Nginx::Socket 'no_plan';

our %PORTS;
@PORTS{qw(AS AS2 NAME EXPIRED OLD SILENT CLOSED)} = Keybound::_free_ports(7);

# Takes connections, and never answers.
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $PORTS{SILENT}, Listen => 64, ReuseAddr => 1) or die $!;

# Lua of every block: `profile`, and `fetch`, which gives what the server saw, or how opening failed.
my $CLIENT = <<'EOC';
connection = require "resty.keybound.connection"
function profile(spec)
    spec.name = spec.name or "as"
    return assert(connection.profile(spec))
end
function fetch(profile, port, opts)
    opts = opts or {}
    local conn, kind, err = connection.open(profile, opts.host or "localhost", port, opts.timeouts or { connect = 2000, send = 2000, read = 2000 })
    if not conn then
        return kind .. ": " .. err
    end
    assert(conn:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    local body = assert(conn:receive(65536)):match("\r\n\r\n(.*)")
    if opts.keep then
        assert(conn:keepalive(60000, 10))
    else
        conn:close()
    end
    return (conn.reused and "reused " or "") .. body
end
-- The subject only.
function seen(...)
    return (fetch(...):gsub(" %d+$", ""))
end
EOC

sub server {
    my ($port, $cert, $more) = @_;
    return <<"EOC";
    server {
        listen 127.0.0.1:$port ssl;
        ssl_certificate $PKI/$cert.crt;
        ssl_certificate_key $PKI/$cert.key;
        ssl_verify_client optional_no_ca;
        access_log $RUN/requests.log;
        @{[ $more // '' ]}
        location / { return 200 "\$ssl_client_s_dn \$connection"; }
    }
EOC
}

# Sections: `profiles`, Lua in init_by_lua; `lua`, what /t does; `location`, directives for it; `expected`, lines that it answers.
# The names of %PORTS, $PKI and $RUN are replaced in them.
# This runs before what Keybound.pm does with the sections.
add_block_preprocessor(sub {
    my ($block) = @_;
    my %set = (
        engine => $CLIENT . ($block->profiles // ''),
        servers => server($PORTS{AS}, 'as') . server($PORTS{AS2}, 'as2') . server($PORTS{NAME}, 'as-wrong-name')
            . server($PORTS{EXPIRED}, 'as-expired') . server($PORTS{OLD}, 'as', 'ssl_protocols TLSv1.1; ssl_ciphers DEFAULT@SECLEVEL=0;'),
        config => ($block->config // '') . "location /t { @{[ $block->location // '' ]}\n content_by_lua_block { @{[ $block->lua ]} } }\n",
    );
    $set{run} = 'says(' . join(', ', map { 'q{' . s/\$RUN/$RUN/r . '}' } split /\n/, $block->expected) . ');' unless defined $block->run;
    for my $name (keys %set) {
        if ($name ne 'run') {
            $set{$name} =~ s/\$PKI\b/$PKI/g;
            $set{$name} =~ s/\$RUN\b/$RUN/g;
            $set{$name} =~ s/\$(@{[ join '|', keys %PORTS ]})\b/$PORTS{$1}/g;
        }
        $block->set_value($name => $set{$name});
    }
});

# says(LINE...): what /t answers
sub says {
    my @expected = @_;
    is(call(plain => 1, path => '/t')->{body}, join('', map { "$_\n" } @expected), 'answer');
}

sub requests { return -e "$RUN/requests.log" ? scalar(() = read_file("$RUN/requests.log") =~ /\n/g) : 0 }

sub copy { return write_file("$RUN/$_[1]", read_file("$PKI/$_[0]")) }

# What TEST 11 begins with: `init` runs when nginx has begun.
copy('gateway.crt', 'live.crt');
copy('gateway.key', 'live.key');
copy('ca.crt', 'live-ca.crt');

run_tests();

__DATA__

=== TEST 1: the client certificate, the CA and the name are those of the profile
--- profiles
with = profile { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key", ca = "$PKI/ca.crt" }
without = profile { ca = "$PKI/ca.crt" }
self_signed = profile { certificate = "$PKI/gateway-self-signed.crt", private_key = "$PKI/gateway-self-signed.key", ca = "$PKI/ca.crt" }
--- lua
ngx.say(seen(with, $AS))
ngx.say(seen(without, $AS))
ngx.say(seen(self_signed, $AS))
ngx.say(seen(with, $AS, { host = "127.0.0.1" }))
ngx.say(seen(with, $AS, { host = "LOCALHOST" }))
--- expected
CN=gateway

CN=gateway-self-signed
CN=gateway
CN=gateway
--- no_error_log
[error]
[warn]

=== TEST 2: PEM in place of paths
--- profiles
local function pem(name) return "\n  " .. io.open("$PKI/" .. name):read("*a") end
with = profile { certificate = pem "gateway.crt", private_key = pem "gateway.key", ca = pem "ca.crt" }
both = profile { ca = pem "ca.crt" .. "# the other\n" .. pem("other-ca.crt"):match("^%s*(.*)") }
--- lua
ngx.say(seen(with, $AS))
ngx.say("AS2: ", seen(both, $AS2))
--- expected
CN=gateway
AS2: 
--- no_error_log
[error]
[warn]

=== TEST 3: a server that is not to be trusted gets no request
--- profiles
own = profile { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key", ca = "$PKI/ca.crt" }
--- lua
ngx.say(fetch(own, $AS2))
ngx.say(fetch(own, $NAME))
ngx.say(fetch(own, $EXPIRED))
ngx.say(fetch(own, $AS, { host = "127.0.0.2" }))
ngx.say(fetch(own, $CLOSED))
ngx.say(fetch(own, $SILENT, { timeouts = { connect = 200, send = 200, read = 200 } }))
ngx.say((fetch(own, $AS, { host = "as.example" })))
ngx.say((fetch(own, $AS, { host = "a b" })))
--- run
my $before = requests();
my @lines = split /\n/, call(plain => 1, path => '/t')->{body};
is($lines[0], q{certificate: the server's certificate: unable to get local issuer certificate}, 'another CA');
is($lines[1], q{certificate: the server's certificate is not for "localhost"}, 'another name');
is($lines[2], q{certificate: the server's certificate: certificate has expired}, 'expired');
is($lines[3], q{connect: connection refused}, 'no server at this address');
is($lines[4], 'connect: connection refused', 'no server');
is($lines[5], 'timeout: timeout', 'no handshake');
is($lines[6], 'resolve: no resolver defined to resolve "as.example"', 'no resolver');
is($lines[7], 'resolve: not a host name', 'no name');
is(requests(), $before, 'no request was sent');
--- no_error_log
[alert]
[crit]

=== TEST 4: nginx's own trust where the profile has none
--- location
lua_ssl_trusted_certificate $PKI/ca.crt;
--- profiles
own = profile { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key" }
--- lua
ngx.say(seen(own, $AS))
ngx.say(seen(own, $AS, { host = "127.0.0.1" }))
ngx.say(fetch(own, $NAME))
ngx.say(fetch(own, $NAME, { host = "127.0.0.1" }))
ngx.say(fetch(own, $AS2))
ngx.say(fetch(own, $EXPIRED))
--- run
my $before = requests();
says('CN=gateway', 'CN=gateway', 'certificate: certificate host mismatch', q{certificate: the server's certificate is not for "127.0.0.1"},
    'certificate: 21: unable to verify the first certificate', 'certificate: 10: certificate has expired');
is(requests(), $before + 2, 'requests of the trusted ones only');
--- no_error_log
[alert]
[crit]

=== TEST 5: a server that speaks TLS 1.1 only gets no request, even where nginx is set to accept it
--- location
lua_ssl_protocols TLSv1.1 TLSv1.2;
lua_ssl_ciphers DEFAULT@SECLEVEL=0;
lua_ssl_trusted_certificate $PKI/ca.crt;
--- profiles
own = profile { ca = "$PKI/ca.crt" }
nginxs = profile {}
unverified = profile { verify = false }
--- config
location /default { content_by_lua_block { ngx.say(fetch(own, $OLD)) } }
--- lua
ngx.say(fetch(own, $OLD))
ngx.say(fetch(nginxs, $OLD))
ngx.say(fetch(unverified, $OLD))
--- run
my $before = requests();
says(('tls: the connection is older than TLS 1.2') x 3);
is(call(plain => 1, path => '/default')->{body}, "tls: handshake failed\n", 'by default');
is(requests(), $before, 'no request was sent');

=== TEST 6: two certificates never share a connection
--- profiles
local function of(name)
    return profile { name = "as", certificate = "$PKI/" .. name .. ".crt", private_key = "$PKI/" .. name .. ".key", ca = "$PKI/ca.crt" }
end
a, b, none = of "gateway", of "gateway-b", profile { ca = "$PKI/ca.crt" }
a_again = of "gateway"
--- lua
for _ = 1, 3 do
    for _, p in ipairs { a, b, none, a_again } do ngx.say(seen(p, $AS, { keep = true })) end
end
-- The name that is verified is another one.
ngx.say(seen(a, $AS, { keep = true, host = "127.0.0.1" }))
--- expected
CN=gateway
CN=gateway-b

reused CN=gateway
reused CN=gateway
reused CN=gateway-b
reused 
reused CN=gateway
reused CN=gateway
reused CN=gateway-b
reused 
reused CN=gateway
CN=gateway
--- no_error_log
[error]

=== TEST 7: many at once: each sees its own
--- profiles
local function of(name)
    return profile { certificate = "$PKI/" .. name .. ".crt", private_key = "$PKI/" .. name .. ".key", ca = "$PKI/ca.crt" }
end
a, b, none = of "gateway", of "gateway-b", profile { ca = "$PKI/ca.crt" }
--- lua
local wrong, total = 0, 0
local function one(p, expected)
    for _ = 1, 20 do
        total = total + 1
        if seen(p, $AS, { keep = true }):gsub("^reused ", "") ~= expected then wrong = wrong + 1 end
    end
end
local threads = {}
for _ = 1, 5 do
    threads[#threads + 1] = ngx.thread.spawn(one, a, "CN=gateway")
    threads[#threads + 1] = ngx.thread.spawn(one, b, "CN=gateway-b")
    threads[#threads + 1] = ngx.thread.spawn(one, none, "")
end
for _, t in ipairs(threads) do ngx.thread.wait(t) end
ngx.say(wrong, " of ", total)
--- expected
0 of 300
--- no_error_log
[error]

=== TEST 8: two issuers with different CAs each accept their own only; kept connections too
--- profiles
one = profile { ca = "$PKI/ca.crt" }
two = profile { ca = "$PKI/other-ca.crt" }
unverified = profile { verify = false }
--- lua
for _ = 1, 2 do
    ngx.say(seen(one, $AS, { keep = true }))
    ngx.say(seen(two, $AS2, { keep = true }))
    ngx.say(seen(unverified, $AS, { keep = true }))
    ngx.say(seen(unverified, $AS2, { keep = true }))
    ngx.say(fetch(one, $AS2))
    ngx.say(fetch(two, $AS))
end
--- run
my @refused = ("certificate: the server's certificate: unable to get local issuer certificate") x 2;
says(('') x 4, @refused, ('reused ') x 4, @refused);

=== TEST 9: no verification at all: with a warning
--- profiles
unverified = profile { verify = false, certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key" }
--- lua
for _, port in ipairs { $AS, $AS2, $NAME, $EXPIRED } do ngx.say(seen(unverified, port)) end
ngx.say(seen(unverified, $AS2, { host = "127.0.0.1" }))
--- expected
CN=gateway
CN=gateway
CN=gateway
CN=gateway
CN=gateway
--- no_error_log
[error]

=== TEST 10: refused when it is loaded
--- init
write_file("$RUN/empty.pem", '');
write_file("$RUN/half.crt", substr read_file("$PKI/gateway.crt"), 0, 300);
write_file("$RUN/half-ca.crt", read_file("$PKI/ca.crt") . substr read_file("$PKI/other-ca.crt"), 0, 300);
command('', 'openssl', 'pkey', '-aes256', '-passout', 'pass:secret', '-in', "$PKI/gateway.key", '-out', "$RUN/encrypted.key");
--- lua
local crt, key = "$PKI/gateway.crt", "$PKI/gateway.key"
local function try(spec)
    if spec.name == nil then spec.name = "x" end
    local ok, err = connection.profile(spec)
    ngx.say(ok and "accepted" or (err:gsub("^keybound.connection: ", ""):gsub("%f[%w/]/[^ )]*/", "")))
end
try { certificate = crt }
try { private_key = key }
try { certificate = crt, private_key = "$PKI/gateway-b.key" }
try { certificate = "$RUN/none.crt", private_key = key }
try { certificate = crt, private_key = "$RUN/none.key" }
try { certificate = crt, private_key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49" }
try { certificate = "$RUN/half.crt", private_key = key }
try { certificate = "$RUN/empty.pem", private_key = key }
try { certificate = crt, private_key = "$RUN/empty.pem" }
try { certificate = crt, private_key = "$RUN/encrypted.key" }
try { certificate = "-----BEGIN CERTIFICATE-----\nsecret", private_key = key }
try { ca = "$RUN/none.crt" }
try { ca = "$RUN/empty.pem" }
try { ca = "$RUN/half-ca.crt" }
try { ca = io.open("$PKI/ca.crt"):read("*a") .. "  " .. io.open("$PKI/other-ca.crt"):read("*a") }
try { ca = key }
try { verify = "no" }
try { cert = crt }
try { name = 1 }
try { ca = "" }
local _, directory = connection.profile { name = "x", ca = "$RUN" }
ngx.say((directory:gsub("^keybound.connection: ", ""):gsub("/%S+", "DIRECTORY:", 1)))
local ok, err = connection.profile {}
ngx.say(ok or err)
ok, err = connection.profile("as")
ngx.say(ok or err)
--- expected
private_key: required with certificate
certificate: required with private_key
x: private_key (gateway-b.key): is not the key of certificate (gateway.crt)
x: certificate: cannot be read: none.crt: No such file or directory
x: private_key: cannot be read: none.key: No such file or directory
x: private_key: cannot be read: neither PEM nor a path that begins with / or . and can be read
x: certificate (half.crt): is not a certificate in PEM: PEM_read_bio_X509_AUX() failed
x: certificate (empty.pem): is not a certificate in PEM: PEM_read_bio_X509_AUX() failed
x: private_key (empty.pem): is not a private key in PEM: PEM_read_bio_PrivateKey() failed
x: private_key (encrypted.key): is encrypted; decrypt it
x: certificate: is not a certificate in PEM: PEM_read_bio_X509_AUX() failed
x: ca: cannot be read: none.crt: No such file or directory
x: ca (empty.pem): has no certificate in PEM
x: ca (half-ca.crt): has a certificate that cannot be read
x: ca: has a certificate that cannot be read
x: ca (gateway.key): has no certificate in PEM
verify: must be a boolean
cert: unknown option; there are name, certificate, private_key, ca and verify
name: must be a string
ca: must not be empty
x: ca: cannot be read: DIRECTORY: Is a directory
keybound.connection: name: required
keybound.connection: expect a table at #1
--- no_error_log
[error]
[alert]

=== TEST 11: renewed files are in use without a reload; half-written and unreadable ones are not
--- profiles
live = profile { certificate = "$RUN/live.crt", private_key = "$RUN/live.key", ca = "$RUN/live-ca.crt" }
--- lua
ngx.say(seen(live, $AS, { keep = true }))
ngx.say(seen(live, $AS2))
--- run
my $refused = "certificate: the server's certificate: unable to get local issuer certificate";
says('CN=gateway', $refused);
copy('gateway-b.crt', 'live.crt');
sleep 5.2;
log_mark();
says('reused CN=gateway', $refused);
like(log_since(), qr/keybound: as: private_key \(\S+live\.key\): is not the key of certificate \(\S+live\.crt\); what was loaded before stays in use/, 'half a pair');
copy('gateway-b.key', 'live.key');
sleep 5.2;
log_mark();
says('CN=gateway-b', $refused);
like(log_since(), qr/keybound: as: changed files are in use/, 'told');
copy('other-ca.crt', 'live-ca.crt');
unlink "$RUN/live.key";
sleep 5.2;
log_mark();
says($refused, 'CN=gateway-b');
unlike(log_since(), qr/what was loaded before stays in use/, 'one warning in a minute');
write_file("$RUN/live-ca.crt", "junk\n");
sleep 5.2;
says($refused, 'CN=gateway-b');
--- timeout: 40
--- no_error_log
[alert]

=== TEST 12: handles and certificates that are replaced are freed
--- lua
local function resident()
    local file = io.open("/proc/self/statm")
    local pages = tonumber(file:read("*a"):match("^%d+ (%d+)"))
    file:close()
    return pages * 4096
end
local function make(n)
    for i = 1, n do
        profile { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key", ca = "$PKI/ca.crt" }
        if i % 10 == 0 then collectgarbage() end
    end
end
make(50)
local before = resident()
make(1000)
local grown = resident() - before
ngx.say(grown < 4 * 2^20 and "freed" or "grown by " .. grown)
local own = profile { certificate = "$PKI/gateway.crt", private_key = "$PKI/gateway.key", ca = "$PKI/ca.crt" }
for _ = 1, 100 do fetch(own, $AS) fetch(own, $AS2) end
collectgarbage()
before = resident()
for _ = 1, 300 do fetch(own, $AS) fetch(own, $AS2) collectgarbage() end
grown = resident() - before
ngx.say(grown < 4 * 2^20 and "freed" or "grown by " .. grown)
--- expected
freed
freed
--- timeout: 60
--- no_error_log
[alert]
