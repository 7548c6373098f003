# A remembered token: time and binding are checked on every request, and nothing but what was verified is remembered.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# Waits until the clock shows that second, and nginx's too.
sub wait_until {
    my ($second) = @_;
    select undef, undef, undef, 0.02 while time < $second;
    select undef, undef, undef, 0.05;
}

run_tests();

__DATA__

=== TEST 1: 8705-3-b: the binding of a remembered token is checked on every request
--- calls
client bound   -> 200
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
-      bound   -> 401 invalid_token certificate_missing
thief  bound   -> 401 invalid_token certificate_mismatch
client bound   -> 200
-      bound   -> 401 invalid_token certificate_missing
rsa    bound   -> 401 invalid_token certificate_mismatch
client bound   -> 200
--- no_error_log
[error]

=== TEST 2: the same from the variable, without claims
--- engine
kb = engine({}, { certificate_source = "variable", ctx = false })
--- calls
client bound   -> 200
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
-      bound   -> 401 invalid_token certificate_missing
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 3: 8705-3-e: and in optional mode
--- engine
kb = engine { proof_of_possession_mtls = "optional" }
--- calls
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
-      bound   -> 401 invalid_token certificate_missing
-      unbound -> 200
thief  unbound -> 200
client bound   -> 200
--- no_error_log
[error]

=== TEST 4: the thief comes first: his refusal spoils nothing, and gains nothing
--- calls
thief  bound   -> 401 invalid_token certificate_mismatch
thief  bound   -> 401 invalid_token certificate_mismatch
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
--- no_error_log
[error]

=== TEST 5: 9068-4-f: a remembered token expires in its second, with memory and without
--- engine
kb = engine()
cold = engine { token_cache_entries = 0 }
lenient = engine { leeway = 60 }
--- tls
location /cold { access_by_lua_block { cold:access() } content_by_lua_block { ngx.say("passed") } }
location /lenient { access_by_lua_block { lenient:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my $exp = int(time) + 3;
define(short => { for => 'client', claims => { exp => $exp } });
for my $path ('/', '/', '/cold', '/lenient') {
    log_mark();
    check(call(cert => 'client', token => 'short', path => $path), '200', "$path: before");
}
wait_until($exp);
for (['/', '401 invalid_token token_expired'], ['/', '401 invalid_token token_expired'], ['/cold', '401 invalid_token token_expired'], ['/lenient', '200']) {
    log_mark();
    check(call(cert => 'client', token => 'short', path => $_->[0]), $_->[1], "$_->[0]: after");
}
log_mark();
check(call(cert => 'client', token => 'bound'), '200', 'another token');
--- no_error_log
[error]

=== TEST 6: a refusal is not remembered: a token whose time comes passes then
--- run
# Ten seconds ahead are forgiven.
my $from = int(time) + 13;
define(early => { for => 'client', claims => { nbf => $from } });
log_mark();
check(call(cert => 'client', token => 'early'), '401 invalid_token token_not_yet_valid', 'before');
wait_until($from - 10);
log_mark();
check(call(cert => 'client', token => 'early'), '200', 'in time');
log_mark();
check(call(cert => 'thief', token => 'early'), '401 invalid_token certificate_mismatch', 'for the client only');
--- no_error_log
[error]

=== TEST 7: without memory every answer is the same
--- engine
kb = engine { token_cache_entries = 0 }
--- calls
client bound   -> 200
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
-      bound   -> 401 invalid_token certificate_missing
client forged  -> 401 invalid_token signature_invalid
client bound   -> 200
--- no_error_log
[error]

=== TEST 8: with room for no token every answer is the same
--- engine
kb = engine { token_cache_bytes = 100 }
--- calls
client bound   -> 200
client bound   -> 200
thief  bound   -> 401 invalid_token certificate_mismatch
client forged  -> 401 invalid_token signature_invalid
client bound   -> 200
--- no_error_log
[error]

=== TEST 9: only the whole token is a remembered one: another payload under its signature, another signature under its payload
--- run
my ($header, $payload, $signature) = split /\./, named_token('bound');
my ($thiefs) = (split /\./, named_token('for:thief'))[1];
my ($other) = (split /\./, named_token('unbound'))[2];
my $flipped = substr($signature, 0, 10) . (substr($signature, 10, 1) eq 'A' ? 'B' : 'A') . substr $signature, 11;
for my $round (1, 2) {
    log_mark();
    check(call(cert => 'client', token => 'bound'), '200', 'as issued');
    for (['thief', "$header.$thiefs.$signature", '401 invalid_token signature_invalid'],
         ['client', "$header.$payload.$other", '401 invalid_token signature_invalid'],
         ['client', "$header.$payload.$flipped", '401 invalid_token signature_invalid'],
         ['client', "$header.$payload.", '401 invalid_token signature_invalid'],
         ['client', "$header.$payload.$signature=", '401 invalid_token token_not_jwt'],
         ['client', "$header.$payload.${signature}A", '401 invalid_token signature_invalid'],
         ['client', "$header.$payload", '401 invalid_token token_not_jwt'],
         ['client', "$header.$payload.$signature.", '401 invalid_token token_not_jwt']) {
        my ($cert, $token, $expected) = @$_;
        log_mark();
        check(call(cert => $cert, authorization => "Bearer $token"), $expected, "round $round: " . length($token) . ' characters');
    }
}
--- no_error_log
[error]

=== TEST 10: what one engine verified is nothing to another one
--- engine
kb = engine()
scoped = engine { scopes_required = { "write" } }
other = engine { audience_required = { "https://other.test" } }
own = engine { algorithms = { "RS256" } }
--- tls
location /scoped { access_by_lua_block { scoped:access() } content_by_lua_block { ngx.say("passed") } }
location /other { access_by_lua_block { other:access() } content_by_lua_block { ngx.say("passed") } }
location /rs256 { access_by_lua_block { own:access() } content_by_lua_block { ngx.say("passed") } }
--- calls
client bound              -> 200
client bound path=/scoped -> 403 insufficient_scope insufficient_scope
client bound path=/other  -> 401 invalid_token audience_mismatch
client bound path=/rs256  -> 401 invalid_token algorithm_refused
client bound path=/scoped -> 403 insufficient_scope insufficient_scope
client rs256 path=/rs256  -> 200
client bound              -> 200
--- no_error_log
[error]

=== TEST 11: many tokens through a memory for few: each is decided as if it were alone
--- engine
few = engine { token_cache_entries = 16 }
small = engine { token_cache_bytes = 4000 }
large = engine()
--- tls
location / {
    content_by_lua_block {
        local cjson = require "cjson"
        local file = io.open(ngx.var.arg_file)
        local tokens = cjson.decode(file:read("*a"))
        file:close()
        math.randomseed(7)
        local wrong, count = 0, 0
        for _ = 1, 3000 do
            local token = tokens[math.random(#tokens)]
            ngx.req.set_header("Authorization", "Bearer " .. token.text)
            for _, engine in ipairs { few, small, large } do
                local decision = engine:decide()
                count = count + 1
                if decision.reason ~= token.reason or decision.claims and decision.claims.jti ~= token.jti then
                    wrong = wrong + 1
                end
            end
        end
        ngx.say(count, " decisions, ", wrong, " wrong")
    }
}
--- run
my @tokens;
for my $i (1 .. 120) {
    my ($for, $reason) = $i % 4 ? ('client', 'allowed') : ('thief', 'certificate_mismatch');
    push @tokens, { text => token(for => $for, claims => { jti => "t$i" }), jti => "t$i", reason => $reason };
    my ($head, $signature) = $tokens[-1]{text} =~ /^(.*\.)(.*)$/;
    # The memory's place of a token comes from the end of its signature.
    push @tokens, { text => $head . 'A' x 42 . substr($signature, 42), reason => $reason eq 'allowed' ? 'signature_invalid' : $reason } if $i % 10 == 0;
}
my $file = write_file("$RUN/tokens.json", json(\@tokens));
is(call(cert => 'client', path => "/?file=$file")->{body}, "9000 decisions, 0 wrong\n", 'all');
--- timeout: 20
--- no_error_log
[error]

=== TEST 12: rotated keys: what an engine with the old keys remembers is nothing to the new one
--- engine
kb = engine()
function rotate()
    local config = options()
    table.remove(config.jwks.keys, 1)
    kb = assert(require("resty.keybound").new(config))
end
--- tls
location /rotate { content_by_lua_block { rotate() ngx.say("done") } }
--- calls
client bound               -> 200
client rs256               -> 200
client bound path=/rotate  -> 200
client bound               -> 401 invalid_token key_unknown
client rs256               -> 200
--- no_error_log
[error]
