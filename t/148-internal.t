# What nginx itself does with a request that was let through: it is still the request that its client sent.
use Keybound;
use Logins;
use Test::Nginx::Socket 'no_plan';

mkdir "$RUN/www";
write_file("$RUN/www/app.html", 'the application');
chmod 0755, $RUN, "$RUN/www";

# SHOW: the upstream says which of the headers that hold credentials it got
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(tls => $block->tls =~ s/\$RUN/$RUN/gr =~ s/SHOW/content_by_lua_block {
            local names = {}
            for name in pairs(ngx.req.get_headers(0, true)) do
                local plain = name:lower():gsub("_", "-")
                if plain == "authorization" or plain == "cookie" or plain == "refresh-token" then names[#names + 1] = name:lower() end
            end
            table.sort(names)
            ngx.print("got: ", table.concat(names, ","))
        }/gr);
});

# refresh_token(): one of alice's
sub refresh_token {
    my %form = (grant_type => 'password', username => 'alice', password => 'alice-password', scope => 'openid read');
    my $answer = as_request('/token', \%form, client => 'web', cert => 'web');
    known('a refresh token', $answer->{refresh_token});
    return $answer->{refresh_token};
}

run_tests();

__DATA__

=== TEST 1: try_files, index and error_page: whoever was let through is let through behind them, too
--- engine
kb = logins { auth_methods = { "session", "authorization_code" } }
--- tls
        root $RUN/www;
        access_by_lua_block { kb:access() }
        location / { try_files $uri /app.html; }
        location /ok { SHOW }
        location /gone { error_page 404 /app.html; content_by_lua_block { ngx.exit(404) } }
        location /dir/ { alias $RUN/www/; index app.html; }
--- run
my $seen = login(jar => 'a', cert => 'client', path => '/ok');
is($seen->{body}, 'got: authorization', 'logged in; no cookie goes on');
for my $path ('/some/page', '/gone', '/dir/') {
    my $seen = browse(jar => 'a', cert => 'client', path => $path);
    is(scalar @{ $seen->{hops} }, 1, "$path: no login");
    is($seen->{body}, 'the application', "$path: the application");
}
my $stolen = browse(jar => 'a', path => '/some/page', fetch => 1);
is($stolen->{status}, 401, 'without the certificate not');
--- timeout: 60

=== TEST 2: likewise where the credentials are hidden, and not without them
--- engine
kb = engine { hide_credentials = true }
--- tls
        root $RUN/www;
        access_by_lua_block { kb:access() }
        location / { try_files $uri /app.html; }
--- calls
client bound path=/some/page -> 200
- bound path=/some/page -> 401 invalid_token certificate_missing
client - path=/some/page -> 401 - no_token

=== TEST 3: the next refresh token comes with the answer, with no header_filter and without ctx; the old one does not go on, however it is spelled
--- engine
kb = logins({ auth_methods = { "refresh_token" }, session_secret = cjson.null, session_bind_certificate = cjson.null, redirect_uri = cjson.null,
    proof_of_possession_mtls = "off" }, { store = "logins", ctx = false })
--- tls
        underscores_in_headers on;
        location / { access_by_lua_block { kb:access() } SHOW }
--- run
for my $name ('Refresh-Token', 'Refresh_Token') {
    my $token = refresh_token();
    my $response = call(cert => 'client', headers => ["$name: $token"]);
    is($response->{status}, 200, "$name: let through");
    is($response->{body}, 'got: authorization', "$name: what the upstream got");
    my ($next) = header($response, 'Refresh-Token');
    ok($next && $next ne $token, "$name: the next one");
    is(join(' ', header($response, 'Cache-Control')), 'no-store', "$name: nobody keeps it");
}
--- timeout: 30
