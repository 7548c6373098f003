# The hot path is compiled, and with or without the compiler every answer is the same.
use Keybound;
use Test::Nginx::Socket 'no_plan';

# `--- traces: OPTIONS` runs access() with the compiler's own report (jit.v) on; the report is then in $main::TRACES.
my $REPORT = "$Keybound::RUN/traces";
add_block_preprocessor(sub {
    my ($block) = @_;
    defined(my $options = $block->traces) or return;
    $block->set_value(engine => <<"EOL");
        local report = require("jit.v")
        report.on("$REPORT")
        kb = engine($options)
        function traces()
            report.off()
            local file = assert(io.open("$REPORT"))
            ngx.print((file:read("*a")))
            file:close()
        end
        -- By chance it would report itself.
        jit.off(traces)
        jit.off(report.off)
EOL
    $block->set_value(tls => ($block->tls // '') . 'location = /traces { content_by_lua_block { traces() } }');
});

# The report, and in it: finished traces that begin in access(); what stopped the compiler in keybound's own files.
sub traces {
    my @lines = split /\n/, call(path => '/traces')->{body};
    my $source = read_file("$ROOT/lua/resty/keybound.lua");
    my ($before) = $source =~ /^(.*?)^function _M:access\(\)/ms;
    my $line = 1 + ($before =~ tr/\n//);
    return {
        lines => \@lines,
        access => scalar(grep { /^\[TRACE +\d+ .*keybound\.lua:$line\b/ } @lines),
        loop => scalar(grep { /^\[TRACE +\d+ access_by_lua\S+ loop\]/ } @lines),
        stopped => join("\n", grep { /NYI|blacklist/ && /(?:keybound|request|library)\.lua/ } @lines),
    };
}

run_tests();

__DATA__

=== TEST 1: access() without claims is compiled, request after request
--- traces: {}, { ctx = false }
--- run
is(json([at_once(900, { cert => 'client', token => 'bound', keep => 1 })]), '[{"200":900}]', 'all pass');
my $traces = traces();
cmp_ok($traces->{access}, '>=', 1, 'a trace begins in access()') or diag(join "\n", @{ $traces->{lines} });
is($traces->{stopped}, '', 'nothing stops the compiler');
is(scalar(grep { /stitch/ } @{ $traces->{lines} }), 0, 'nothing is called that is not compiled');
--- no_error_log
[error]

=== TEST 2: the whole of access() fits into one trace
--- traces: {}, { ctx = false }
--- tls
location / { access_by_lua_block { for _ = 1, 2000 do kb:access() end } content_by_lua_block { ngx.say("passed") } }
--- run
is(json([at_once(3, { cert => 'client', token => 'bound' })]), '[{"200":3}]', 'all pass');
my $traces = traces();
cmp_ok($traces->{loop}, '>=', 1, 'a loop around it is one trace') or diag(join "\n", @{ $traces->{lines} });
is($traces->{stopped}, '', 'nothing stops the compiler');
is(scalar(grep { /stitch/ } @{ $traces->{lines} }), 0, 'nothing is called that is not compiled');
--- no_error_log
[error]

=== TEST 3: with claims in ngx.ctx it is compiled too
--- traces: {}, { ctx = true }
--- run
is(json([at_once(900, { cert => 'client', token => 'bound', keep => 1 })]), '[{"200":900}]', 'all pass');
my $traces = traces();
cmp_ok($traces->{access}, '>=', 1, 'a trace begins in access()') or diag(join "\n", @{ $traces->{lines} });
is($traces->{stopped}, '', 'nothing stops the compiler');
--- no_error_log
[error]

=== TEST 4: and the whole of it fits into one trace too
--- traces: {}, { ctx = true }
--- tls
location / { access_by_lua_block { for _ = 1, 2000 do kb:access() end } content_by_lua_block { ngx.say("passed") } }
--- run
is(json([at_once(3, { cert => 'client', token => 'bound' })]), '[{"200":3}]', 'all pass');
my $traces = traces();
cmp_ok($traces->{loop}, '>=', 1, 'a loop around it is one trace') or diag(join "\n", @{ $traces->{lines} });
is($traces->{stopped}, '', 'nothing stops the compiler');
--- no_error_log
[error]

=== TEST 5: with the certificate from the variable it is compiled too
--- traces: {}, { ctx = false, certificate_source = "variable" }
--- run
is(json([at_once(900, { cert => 'client', token => 'bound', keep => 1 })]), '[{"200":900}]', 'all pass');
my $traces = traces();
cmp_ok($traces->{access}, '>=', 1, 'a trace begins in access()') or diag(join "\n", @{ $traces->{lines} });
is($traces->{stopped}, '', 'nothing stops the compiler');
--- no_error_log
[error]

=== TEST 6: compiled code still refuses: other certificates and tokens after a thousand that pass
--- traces: {}, { ctx = false }
--- run
is(json([at_once(900, { cert => 'client', token => 'bound', keep => 1 })]), '[{"200":900}]', 'all pass');
for my $round (1 .. 4) {
    for (['client', 'bound', '200'], ['thief', 'bound', '401 invalid_token certificate_mismatch'], ['-', 'bound', '401 invalid_token certificate_missing'],
         ['client', 'unbound', '401 invalid_token token_unbound'], ['client', '-', '401 - no_token'], ['client', 'forged', '401 invalid_token signature_invalid']) {
        my ($cert, $token, $expected) = @$_;
        log_mark();
        check(call(cert => $cert, token => $token), $expected, "round $round: $cert $token");
    }
}
cmp_ok(traces()->{access}, '>=', 1, 'it was compiled');
--- no_error_log
[error]

=== TEST 7: compiled as early as can be: the same answers
--- engine
jit.opt.start("hotloop=1", "hotexit=1")
kb = engine()
--- run
for my $round (1 .. 10) {
    for (['client', 'bound', '200'], ['thief', 'bound', '401 invalid_token certificate_mismatch'], ['-', 'bound', '401 invalid_token certificate_missing'],
         ['client', 'unbound', '401 invalid_token token_unbound'], ['client', '-', '401 - no_token']) {
        my ($cert, $token, $expected) = @$_;
        log_mark();
        check(call(cert => $cert, token => $token), $expected, "round $round: $cert $token");
    }
}
--- no_error_log
[error]

=== TEST 8: without the compiler: the same answers
--- engine
jit.off()
kb = engine { upstream_headers_claims = { "sub" }, upstream_headers_names = { "X-User" } }
variable = engine({}, { certificate_source = "variable", ctx = false })
--- tls
location /variable { access_by_lua_block { variable:access() } content_by_lua_block { ngx.say("passed") } }
location /status { content_by_lua_block { ngx.print(tostring((jit.status()))) } }
--- calls
client bound                -> 200
thief  bound                -> 401 invalid_token certificate_mismatch
-      bound                -> 401 invalid_token certificate_missing
client unbound              -> 401 invalid_token token_unbound
client forged               -> 401 invalid_token signature_invalid
client expired              -> 401 invalid_token token_expired
client -                    -> 401 - no_token
client bound path=/variable -> 200
thief  bound path=/variable -> 401 invalid_token certificate_mismatch
-      bound path=/variable -> 401 invalid_token certificate_missing
client bound h2             -> 200
--- run
is(call(path => '/status')->{body}, 'false', 'it is off');
--- no_error_log
[error]
