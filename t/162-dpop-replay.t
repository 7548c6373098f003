# A proof is good for one request (RFC 9449 §11.1): in two workers, at once, over reloads, and where there is no room to remember it.
use Keybound;
use Proofs;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);

# /pid: the worker that answers; a configuration is read anew at each reload
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(config => 'location = /pid { content_by_lua_block { ngx.print(ngx.worker.pid()) } }');
});

sub pids {
    my %pids = map { call(plain => 1, path => '/pid')->{body} => 1 } 1 .. 30;
    return sort keys %pids;
}

sub reload {
    my %old = map { $_ => 1 } pids();
    kill HUP => Test::Nginx::Util::get_pid_from_pidfile('hup') or die "HUP: $!\n";
    for (1 .. 200) {
        my @new = pids();
        return 1 if !grep { $old{$_} } @new;
        select undef, undef, undef, 0.02;
    }
    return 0;
}

# used(N, %call): the statuses of N requests, each on its own connection: { 200 => N }
sub used {
    my ($n, %call) = @_;
    my %count;
    $count{ call(%call)->{status} }++ for 1 .. $n;
    return json(\%count);
}

run_tests();

__DATA__

=== TEST 1: 9449-11.1-b: a proof that comes again is refused by every worker, over HTTP/1.1 and HTTP/2, and for each key, jti and method
--- run
my %one = mine();
tries('200', 'the first time', %one);
is(used(40, %one), '{"401":40}', 'forty times more');
tries('401 invalid_dpop_proof proof_replayed', 'over HTTP/2', %one, h2 => 1);
tries('200', 'another jti', mine());
# The name of a proof is that of its key and its jti together, whatever else is in it.
tries('200', 'jti x', mine(proof => { jti => 'x' }));
tries('401 invalid_dpop_proof proof_replayed', 'jti x, for another method', mine(method => 'POST', data => 'x', proof => { jti => 'x' }));
tries('401 invalid_dpop_proof proof_replayed', 'jti x, with another time', mine(proof => { jti => 'x', iat => -5 }));
tries('200', 'jti x, of another key', sent('thief', 'jkt:thief', proof => { jti => 'x' }));
tries('200', 'jti X', mine(proof => { jti => 'X' }));
is(join(' ', map { $_->{status} } calls_on_one_connection(\%one, \%one, { mine() })), '401 401 200', 'on one connection');
--- no_error_log
[error]
--- timeout: 30

=== TEST 2: 9449-11.1-b: of those that come at once, one passes
--- run
for my $h2 (0, 1) {
    my %one = mine(h2 => $h2, path => '/a');
    my %count;
    for my $one (at_once(100, (\%one) x 4)) { $count{$_} += $one->{$_} for keys %$one }
    is(json(\%count), '{"200":1,"401":399}', "h2=$h2: of four hundred");
}
my %one = mine(path => '/a');
is(json(flood(50, 4, %one)), '{"200":1,"401":199}', 'of two hundred at once on four connections');
--- timeout: 60

=== TEST 3: 9449-11.1-b: likewise after a reload, and a nonce is good after it
--- engine
kb = dpop()
nonces = dpop { dpop_use_nonce = true, dpop_nonce_secret = ("n"):rep(32) }
--- tls
location /nonces { access_by_lua_block { nonces:access() } content_by_lua_block { ngx.say("passed") } }
--- run
my %one = mine();
tries('200', 'a proof', %one);
my $response = tries('401 use_dpop_nonce proof_nonce_missing', 'a nonce', mine(path => '/nonces'));
my $nonce = header($response, 'DPoP-Nonce');
ok(reload(), 'reloaded');
tries('401 invalid_dpop_proof proof_replayed', 'the proof again', %one);
tries('200', 'another proof', mine());
my %count;
$count{ call(mine(path => '/nonces', proof => { nonce => $nonce }))->{status} }++ for 1 .. 20;
is(json(\%count), '{"200":20}', 'the nonce, in both workers');
--- timeout: 30

=== TEST 4: a proof that was refused is not used up, and nobody can use up another's
--- run
my %one = mine(proof => { jti => 'own' });
tries('401 invalid_token proof_key_mismatch', 'a thief with the token and his own key', sent('thief', 'jkt:phone', proof => { jti => 'own' }));
tries('401 invalid_dpop_proof proof_signature_invalid', 'a thief who says that it is the key', mine(proof => { jti => 'own', signed_by => 'thief' }));
tries('200', 'a thief with a token of his own', sent('thief', 'jkt:thief', proof => { jti => 'own' }));
tries('401 invalid_dpop_proof proof_method_mismatch', 'the proof for another request', %one, method => 'DELETE');
tries('401 invalid_dpop_proof proof_uri_mismatch', 'and for another path', %one, path => '/other');
tries('401 invalid_token dpop_scheme_required', 'as Bearer', %one, authorization => 'Bearer ' . named_token('jkt:phone'));
tries('200', 'its own', %one);

=== TEST 5: a proof is remembered until nobody would take it any more, and not for long after
--- engine
kb = dpop { dpop_proof_lifetime = 2, dpop_proof_leeway = 0 }
shown = function()
    local shared = ngx.shared.proofs
    local keys = shared:get_keys(0)
    local n, ttl = 0, 0
    for _, key in ipairs(keys) do
        local left = shared:ttl(key)
        if left and left > 0 then n, ttl = n + 1, math.max(ttl, left) end
    end
    ngx.print(n, " ", math.ceil(ttl))
end
--- tls
location = /shown { content_by_lua_block { shown() } }
--- run
my %one = mine(proof => { iat => -1 });
my $begun = time;
tries('200', 'a second old', %one);
my ($n, $ttl) = split ' ', call(path => '/shown')->{body};
is($n, 1, 'one is remembered');
cmp_ok($ttl, '<=', 3, 'for no longer than it takes');
while (time - $begun < 1.5) {
    my $status = call(%one)->{status};
    $status == 401 or fail("replayed: $status");
}
select undef, undef, undef, 2.6;
tries('401 invalid_dpop_proof proof_expired', 'then it is too old', %one);
is((split ' ', call(path => '/shown')->{body})[0], 0, 'and forgotten');
--- timeout: 20

=== TEST 6: without room to remember a proof it is not taken, and none that is remembered is forgotten
--- http_config
lua_shared_dict small 64k;
--- engine
kb = dpop({}, { store = "small" })
--- schemes: DPoP
--- run
my @calls = map { { mine() } } 1 .. 12;
my ($first, @more) = @calls;
tries('200', 'one', %$first);
# All that fits, as by other requests.
call(path => '/fill');
my %count;
$count{ call(%$_)->{status} }++ for @more;
is(json(\%count), '{"503":11}', 'no room for others');
my $response = tries('503 - store_unavailable', 'the answer', mine());
is(header($response, 'Retry-After'), '5', 'later perhaps');
tries('401 invalid_dpop_proof proof_replayed', 'the first is remembered', %$first);
call(path => '/empty');
tries('200', 'with room again, one that was not taken', %{ $more[0] });
tries('401 invalid_dpop_proof proof_replayed', 'the first still', %$first);
--- tls
location = /fill { content_by_lua_block {
    local dict, n = ngx.shared.small, 0
    while dict:safe_add("fill" .. n, ("x"):rep(16), 60) do n = n + 1 end
    ngx.print(n)
} }
location = /empty { content_by_lua_block {
    local dict = ngx.shared.small
    for _, key in ipairs(dict:get_keys(0)) do
        if key:find("^fill") then dict:delete(key) end
    end
} }
--- error_log
the shared store failed: `lua_shared_dict small` is full: make it larger
--- timeout: 20

=== TEST 7: without a store there is no engine, unless the operator says that proofs may come again; then it is logged
--- engine
none, err = require("resty.keybound").new(options { proof_of_possession_dpop = "strict", public_origin = "https://api.test" })
off = dpop({ insecure_dpop_replay = true }, {})
--- tls
location / { access_by_lua_block { off:access() } content_by_lua_block { ngx.say("passed") } }
location = /err { content_by_lua_block { ngx.print(tostring(none), " ", err) } }
--- run
is(call(path => '/err')->{body}, 'nil keybound.new: store: required for logins, sessions and proofs: what all workers must know of them is kept there', 'no store');
my %one = mine();
log_mark();
is(used(10, %one), '{"200":10}', 'ten times');
like(log_since(), qr/note, request_id=\w+, detail=the proof is not remembered \(insecure_dpop_replay\)/, 'it is logged');
