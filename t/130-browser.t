# The browser of the login tests keeps to the rules that the attacks on a login lean on, and the authorization server logs users in.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# A server that sets the cookies it is asked for and shows what came.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(tls => <<'EOC');
        location / {
            content_by_lua_block {
                local args = ngx.req.get_uri_args()
                ngx.header["Set-Cookie"] = args.set
                if args.to then
                    return ngx.redirect(args.to, tonumber(args.status) or 302)
                end
                ngx.req.read_body()
                local headers = ngx.req.get_headers()
                ngx.header["Content-Type"] = "application/json"
                ngx.say(require("cjson").encode { cookie = headers.cookie or "-", site = headers["sec-fetch-site"], mode = headers["sec-fetch-mode"],
                    origin = headers.origin or "-", method = ngx.req.get_method(), body = ngx.req.get_body_data() or "-", accept = headers.accept,
                    certificate = ngx.var.ssl_client_s_dn or "-" })
            }
        }
        location = /start {
            content_by_lua_block {
                ngx.redirect(ngx.var.arg_as .. "/auth?client_id=web&response_type=code&scope=openid+read&state=s&nonce=n&code_challenge_method=S256"
                    .. "&code_challenge=" .. string.rep("A", 43) .. "&redirect_uri=https://api.test/callback")
            }
        }
EOC
});

sub encoded { return $_[0] =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger }

# set(JAR, COOKIE, %how): the server sets it
sub set {
    my ($jar, $cookie, %how) = @_;
    return browse(jar => $jar, path => '/?set=' . encoded($cookie), %how);
}

# seen(%how): what the server saw
sub seen { return json(browse(@_)->{body}) }

run_tests();

__DATA__

=== TEST 1: cookies go where they may
--- run
set('a', 'plain=1');
set('a', '__Host-ok=1; Path=/; Secure');
set('a', $_) for '__Host-path=1; Path=/x; Secure', '__Host-domain=1; Path=/; Secure; Domain=api.test', '__Host-insecure=1; Path=/', '__Secure-no=1',
    'none=1; SameSite=None', 'other=1; Domain=other.test', 'suffix=1; Domain=test', 'long=' . 'x' x 4093, 'old=1; Max-Age=0';
is(join(' ', map { $_->{name} } @{ jar('a') }), 'plain __Host-ok', 'what browsers refuse is refused');
is(seen(jar => 'a')->{cookie}, 'plain=1; __Host-ok=1', 'what is not refused is sent');
set('a', 'deep=1; Path=/deep');
is(seen(jar => 'a')->{cookie}, 'plain=1; __Host-ok=1', 'path: not elsewhere');
is(seen(jar => 'a', path => '/deep/er')->{cookie}, 'deep=1; plain=1; __Host-ok=1', 'path: below it, and first');
is(seen(jar => 'a', path => '/deepest')->{cookie}, 'plain=1; __Host-ok=1', 'path: not what only begins the same');
set('a', 'plain=; Expires=Thu, 01 Jan 1970 00:00:00 GMT');
is(seen(jar => 'a')->{cookie}, '__Host-ok=1', 'one that is over is gone');
set('a', 'brief=1; Max-Age=2');
is(seen(jar => 'a')->{cookie}, '__Host-ok=1; brief=1', 'one that is not over yet');
sleep 3;
is(seen(jar => 'a')->{cookie}, '__Host-ok=1', 'one that is over by now');
is(seen(jar => 'b')->{cookie}, '-', 'another jar has none');
set('a', 'long=' . 'x' x 4092);
is(length seen(jar => 'a')->{cookie}, length('__Host-ok=1; long=') + 4092, '4096 octets of name and value are not too many');

=== TEST 2: SameSite
--- run
set('s', $_) for 'default=1', 'lax=1; SameSite=Lax', 'strict=1; SameSite=Strict', 'none=1; SameSite=None; Secure';
my @evil = (from => 'https://evil.test/');
is(seen(jar => 's')->{cookie}, 'default=1; lax=1; strict=1; none=1', 'typed');
is(seen(jar => 's')->{site}, 'none', 'typed: Sec-Fetch-Site');
is(seen(jar => 's', @evil)->{cookie}, 'default=1; lax=1; none=1', 'a link on another site');
is(seen(jar => 's', @evil)->{site}, 'cross-site', 'a link on another site: Sec-Fetch-Site');
is(seen(jar => 's', @evil, method => 'POST', data => 'x=1')->{cookie}, 'none=1', 'a form on another site');
is(seen(jar => 's', @evil, method => 'POST', data => 'x=1')->{origin}, 'https://evil.test', 'a form on another site: Origin');
is(seen(jar => 's', from => 'https://api.test/', method => 'POST', data => 'x=1')->{cookie}, 'default=1; lax=1; strict=1; none=1', 'a form of the site');
is(seen(jar => 's', @evil, fetch => 1)->{cookie}, 'none=1', 'fetch() of another site');
is(json(seen(jar => 's', fetch => 1)), json({ cookie => 'default=1; lax=1; strict=1; none=1', site => 'same-origin', mode => 'cors', origin => '-', method => 'GET',
    body => '-', accept => 'application/json', certificate => '-' }), 'fetch() of the site');
set('f', 'a=1', @evil, fetch => 1);
is(seen(jar => 'f')->{cookie}, '-', 'fetch() of another site sets no cookie that may not go there');

=== TEST 3: redirects, and the client certificate
--- run
my $to = encoded('https://api.test/end#there');
is(seen(jar => 'r', cert => 'client')->{certificate}, 'CN=client', 'a certificate');
is(seen(jar => 'r', cert => 'client', host => 'a.test')->{certificate}, 'CN=client', 'a certificate for another host of the gateway');
is(browse(jar => 'r', path => "/?to=$to")->{url}, 'https://api.test/end#there', 'the URL at the end');
is(join(' ', @{ seen(jar => 'r', path => "/?status=$_->[0]&to=$to", method => 'POST', data => 'x=1') }{qw(method body)}), $_->[1], "a form that is answered with $_->[0]")
    for [ 302, 'GET -' ], [ 303, 'GET -' ], [ 307, 'POST x=1' ], [ 308, 'POST x=1' ];
is(browse(jar => 'r', path => "/?to=$to", no_follow => 1)->{status}, 302, 'no_follow');
is(browse(jar => 'r', path => "/?to=$to", stop_at => 'https://api.test/end')->{stopped}, 'https://api.test/end#there', 'stop_at');

=== TEST 4: a login at the authorization server: by a form, then without one; and the way back is from another site
--- run
my $as = as_start()->{issuer};
set('l', $_) for 'lax=1; SameSite=Lax', 'strict=1; SameSite=Strict';
my $back = login(jar => 'l', path => "/start?as=$as", cert => 'client');
like($back->{url}, qr{^https://api\.test/callback\?code=[\w-]+&state=s&iss=\Q@{[ encoded($as) ]}\E$}, 'back with a code, the state and the issuer');
is(join(' ', map { "$_->{method} $_->{status}" } @{ $back->{hops} }), 'GET 302 GET 303 GET 200 POST 303 GET 303 GET 200', 'by a form');
is(join(' ', @{ json($back->{body}) }{qw(cookie site certificate)}), 'lax=1 cross-site CN=client', 'what the callback gets');
is(join(' ', map { $_->{certificate} ? 'certificate' : 'none' } grep { $_->{path} =~ /^.auth|^.interaction/ } @{ as_log() }), 'none none none none', 'no certificate for it');
is(scalar @{ login(jar => 'l', path => "/start?as=$as")->{hops} }, 3, 'the second time without a form');
jar('m', [ grep { $_->{domain} eq 'api.test' } @{ jar('l') } ]);
is(scalar @{ login(jar => 'm', path => "/start?as=$as")->{hops} }, 6, 'cookies of the gateway only: with a form');
like(browse(jar => 'n', abort => 1, path => "/start?as=$as")->{url}, qr{^https://api\.test/callback\?error=access_denied&}, 'cancelled');
like(login(jar => 'n', password => 'wrong', path => "/start?as=$as")->{body}, qr/Wrong login or password/, 'a wrong password');
like(browse(jar => 'n', path => "/start?as=$as")->{body}, qr/<form/, 'nobody to log in: the form');
like(browse(jar => 'l', url => "$as/session/end")->{body}, qr/You are logged out/, 'logged out');
is(scalar @{ login(jar => 'l', path => "/start?as=$as")->{hops} }, 6, 'a form again');
like(login(jar => 'o', callback => 'https://api.test/other', path => "/start?as=$as")->{body}, qr/invalid_redirect_uri/, 'a redirect URI that is not its');

=== TEST 5: Chromium does the same, and logs out
--- run
as_stop('as');
my $as = as_start('as', '--aliases-only')->{issuer};
my $logout = "$as/session/end?client_id=web&post_logout_redirect_uri=https://api.test/logged-out";
my $cookie = encoded('__Host-c=12345; Path=/; Secure; HttpOnly; SameSite=Strict');
my $seen = chromium(path => "/start?as=$as", cert => 'client', api => "/?set=$cookie", logout => '/?to=' . encoded($logout),
    logged_out => 'https://api.test/logged-out', wait => 1, screenshots => "$RUN/chromium");
is($seen->{error}, undef, 'it comes to its end');
like($seen->{login}{url}, qr{^https://api\.test/callback\?code=}, 'logged in');
is(json($seen->{login}{text})->{certificate}, 'CN=client', 'with the certificate');
my @calls = map { json($_->{body}) } @{ $seen->{calls} };
is(json([ map { [ @$_{qw(cookie site mode certificate)} ] } @calls ]),
    json([ map { [ $_, 'same-origin', 'cors', 'CN=client' ] } '-', '__Host-c=12345', '__Host-c=12345' ]), 'calls: logged in, later and after the logout');
is(json($seen->{cookies_after}), json([ { name => '__Host-c', domain => 'api.test', path => '/', secure => JSON::PP::true, httpOnly => JSON::PP::true,
    sameSite => 'Strict', length => 5 } ]), 'the cookie, and not what it holds');
is(json($seen->{logout}{text})->{site}, 'cross-site', 'logged out, by way of the authorization server');
is(join(' ', map { $_->{certificate} ? 'certificate' : 'none' } @{ as_log() }[0 .. 3]), 'none none none none', 'no certificate for the authorization server');
is(join(' ', map { -s "$RUN/chromium/$_.png" ? 'there' : 'missing' } qw(form in out)), 'there there there', 'screenshots');
