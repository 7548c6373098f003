# The host that Kong plugins are tested in: each block is a fact of live Kong that it reproduces, seen through the plugin `probe`, which
# runs the Lua of its configuration.
use Kong;
use Test::Nginx::Socket 'no_plan';

workers(2);

# probe(PHASE => LUA, OPTION => VALUE...): an instance
sub probe { return { name => 'probe', config => { @_ } } }

# answer(LUA, %call): the host is reloaded with a plugin that answers with what this returns, as JSON
our $ANSWER = <<'EOL';
local results = { (function() %s end)() }
kong.response.exit(200, require("cjson").encode(results))
EOL
sub answer {
    my ($lua, %call) = @_;
    my $errors = kong_reload({ plugins => [probe(access => sprintf $ANSWER, $lua)] });
    die json($errors) if $errors;
    return call(%call)->{body};
}
# logged(LAST): the lines that the probe logged since the last mark. The last phase of a request comes after its response: waits until
# there is what matches LAST.
sub logged {
    my ($last) = @_;
    for (1 .. 60) {
        last if !$last || log_since() =~ $last;
        pause(0.05);
    }
    return join '|', map { /\[probe\] (.*?)(?: while |, client: |, context: |$)/ ? $1 : () } split /\n/, log_since();
}
# fails(LUA): the error that it raises, without the place
sub fails { return answer("local ok, err = pcall(function() $_[0] end) return ok, (err:gsub('^access:%d+: ', ''))") }
sub errors { my $errors = plugin_errors('probe', { @_ }); return $errors ? json($errors) : 'none' }
sub pause { select undef, undef, undef, $_[0] }

run_tests();

__DATA__

=== TEST 1: plugins are loaded in the master, before there are workers, and without a PDK
--- kong eval
+{ plugins => [main::probe(access => 'kong.response.exit(200, self.loaded.phase .. " " .. tostring(self.loaded.pid == ngx.worker.pid()) .. " " .. tostring(self.loaded.pdk))')] }
--- run
is(call()->{body}, 'init false false', 'phase, process and kong.request');
--- no_error_log
[error]

=== TEST 2: PRIORITY is an integer and VERSION is x.y.z, else Kong does not start
--- config
location = /load {
    content_by_lua_block {
        local function try(handler)
            package.loaded["kong.plugins.t.handler"], package.loaded["kong.plugins.t.schema"] = handler, { name = "t", fields = { { config = { type = "record", fields = {} } } } }
            local ok, err = pcall(require("kong.runloop").load_plugin, "t")
            ngx.say(tostring(ok and "loaded" or err))
        end
        try { PRIORITY = 1, VERSION = "1.2.3" }
        try { PRIORITY = 1.5, VERSION = "1.2.3" }
        try { VERSION = "1.2.3" }
        try { PRIORITY = 1, VERSION = "1.2" }
        try { PRIORITY = 1 }
    }
}
--- run
is(call(plain => 1, path => '/load')->{body}, <<'EOT', 'as Kong says it');
loaded
Plugin "t" cannot be loaded because its PRIORITY field is not a valid integer number, got: "1.5".
Plugin "t" cannot be loaded because its PRIORITY field is not a valid integer number, got: "nil".
Plugin "t" cannot be loaded because its VERSION field does not follow the "x.y.z" format, got: "1.2".
Plugin "t" cannot be loaded because its VERSION field does not follow the "x.y.z" format, got: "nil".
EOT
--- no_error_log
[error]

=== TEST 3: a schema that Kong 3.4 does not understand is not loaded
--- config
location = /load {
    content_by_lua_block {
        local typedefs = require "kong.db.schema.typedefs"
        local schema = require "kong.schema"
        local function try(field, checks)
            local ok, err = pcall(function()
                return schema.load("t", { name = "t", fields = { { config = { type = "record", fields = { { a = field }, { b = { type = "string" } } }, entity_checks = checks } } } })
            end)
            ngx.say(ok and "loaded" or err)
        end
        try { type = "string" }
        try { type = "string", nilable = true }
        try { type = "string", examples = { "a" } }
        try { type = "text" }
        try { required = true }
        try { type = "string", required = "yes" }
        try { type = "string", description = "Short." }
        try { type = "string", description = ("x"):rep(501) }
        try { type = "string", between = { 1, 2 } }
        try { type = "array" }
        try { type = "array", elements = { type = "string", nullable = true } }
        try { type = "boolean", one_of = { true } }
        try { type = "string", default = 1 }
        try { type = "integer", between = { 1, 5 }, default = 6 }
        try { type = "record", fields = { { a = { type = "string" }, b = { type = "string" } } } }
        try({ type = "string" }, { { mutually_required = { "a", "b" } } })
        try({ type = "string" }, { { mutually_required = { "a", "c" } } })
        try({ type = "string" }, { { only_two_of = { "a", "b" } } })
        local function top(definition)
            definition.name = "t"
            ngx.say(select(2, pcall(schema.load, "t", definition)))
        end
        top { fields = { { config = { type = "record", fields = {} } } }, no_consumer = true }
        top { fields = { { consumer = typedefs.no_consumer } } }
        top { fields = { { config = { type = "record", fields = {} } }, { more = { type = "string" } } } }
        ngx.say((select(2, pcall(function() return typedefs.no_consumer_group end)):gsub("^.-: ", "")))
    }
}
--- run
is(call(plain => 1, path => '/load')->{body}, <<'EOT', 'why');
loaded
schema violation (t.config.a.nilable: unknown field)
schema violation (t.config.a.examples: unknown field)
schema violation (t.config.a: invalid type: text)
schema violation (t.config.a: missing type declaration)
schema violation (t.config.a.required: expected a boolean)
schema violation (t.config.a.description: length must be at least 10)
schema violation (t.config.a.description: length must be at most 500)
schema violation (t.config.a: field of type 'string' cannot have attribute 'between')
schema violation (t.config.a: field of type 'array' must declare 'elements')
schema violation (t.config.a.elements.nullable: unknown field)
schema violation (t.config.a: field of type 'boolean' cannot have attribute 'one_of')
schema violation (t.config.a.default: expected a string)
schema violation (t.config.a.default: value should be between 1 and 5)
schema violation (t.config.a: length must be 1)
loaded
schema violation (t.config.entity_checks: 1: invalid field name: c)
schema violation (t.config.entity_checks: 1: only_two_of: unknown field)
schema violation (no_consumer: unknown field)
schema violation (config: abstract field was not specialized)
schema violation (more: cannot create a new field)
schema typedef error: definition no_consumer_group does not exist
EOT
--- no_error_log
[error]

=== TEST 4: a configuration is refused in Kong's words, nested as it is
--- run
is(errors(), 'none', 'nothing is required');
my @wrong = (
    [[foo => 1], '"foo":"unknown field"'], [[text => 1], '"text":"expected a string"'], [[text => ''], '"text":"length must be at least 1"'],
    [[text => 'x' x 21], '"text":"length must be at most 20"'], [[number => 3], '"number":"value should be between 1 and 2"'],
    [[number => '1'], '"number":"expected a number"'], [[integer => 1.5], '"integer":"expected an integer"'],
    [[integer => 0], '"integer":"value must be greater than 0"'], [[flag => 'yes'], '"flag":"expected a boolean"'],
    [[choice => 'c'], '"choice":"expected one of: a, b"'], [[list => 'a'], '"list":"expected an array"'],
    [[list => { a => 1 }], '"list":"expected an array"'], [[list => ['a', 'B', 1]], '"list":[null,"invalid value: B","expected a string"]'],
    [[set => 1], '"set":"expected a set"'], [[map => { a => 'b' }], '"map":"expected an integer"'], [[map => 1], '"map":"expected a map"'],
    [[host => 'a:1'], '"host":"must not have a port"'], [[port => 65536], '"port":"value should be between 0 and 65535"'],
    [[url => 'https:///x'], '"url":"missing host in url"'], [[url => '//host/x'], '"url":"missing scheme in url"'],
    [[header => 'a b'], qq("header":"bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'")],
    [[id => 'x'], '"id":"expected a valid UUID"'], [[even => 3], '"even":"must be even"'],
    [[inner => 'x'], '"inner":"expected a record"'], [[inner => { names => 1, name => 2 }], '"inner":{"name":"expected a string","names":"unknown field"}'],
    [[optional => {}], '"optional":{"name":"required field missing"}'], [[text => undef, any => ''], undef],
    [[first => 'a'], qq("\@entity":["all or none of these fields must be set: 'first', 'second'"])],
    [[choice => 'b'], qq("\@entity":["failed conditional validation given value of field 'choice'"],"integer":"required field missing")],
    [[text => 'bad'], '"@entity":["text is bad"]'],
    [[any => 'wrong'], '"any":"wrong since number is 1 and host null","list":[null,"is wrong"]'],
    [[any => 'wrong', foo => 1], '"foo":"unknown field"'],
);
for (@wrong) {
    my ($config, $expected) = @$_;
    is(errors(@$config), defined $expected ? "{\"config\":{$expected}}" : 'none', json($config));
}
--- no_error_log
[error]

=== TEST 5: the twins of what is refused pass
--- run
is(errors(%$_), 'none', json($_)) for { text => 'x' x 20, number => 2, integer => 1, flag => JSON::PP::false, choice => 'a', list => ['a', 'b'] },
    { set => ['a', 'a'], map => { a => 1 }, host => 'a.b', port => 0, url => 'https://host:1/x', header => 'X-A_b', id => '8c69843e-7883-490c-8f9d-cf1a4e16adb4' },
    { even => 4, inner => { name => 'x' }, optional => { name => 'x' }, first => 'a', second => 'b' }, { choice => 'b', integer => 1 };
--- no_error_log
[error]

=== TEST 6: a declarative configuration is refused as a whole, with the place of what is wrong
--- run
my $wrong = { plugins => [probe(), probe(foo => 1), { name => 'other' }], services => [{ name => 's', plugins => [probe(text => 1)],
    routes => [{ name => 'r', paths => ['/r'], plugins => [{ name => 'probe', consumer => 'c', config => {} }] }] }],
    consumers => [{ username => 'c', plugins => [probe()] }], more => [] };
my $expected = { more => 'unknown field', plugins => [undef, { config => { foo => 'unknown field' }, '@entity' => ['x'] },
    { name => "plugin 'other' not enabled; add it to the 'plugins' configuration property" }],
    services => [{ plugins => [{ config => { text => 'expected a string' } }], routes => [{ plugins => [{ consumer => 'value must be null' }] }] }],
    consumers => [{ plugins => [{ consumer => 'value must be null' }] }] };
delete $expected->{plugins}[1]{'@entity'};
is(json(kong_errors($wrong)), json($expected), 'all of it');
is(json(kong_reload($wrong)), json($expected), 'and is not taken');
is(kong_errors({ plugins => [probe()] }), undef, 'a good one');
like(json(kong_errors({ plugins => [probe(), probe()] })), qr/uniqueness violation/, 'two instances of one scope');
--- no_error_log
[error]

=== TEST 7: a plugin gets defaults, and nothing where nothing is configured
--- kong eval
+{ plugins => [main::probe(list => [], integer => 2, access => sprintf $main::ANSWER, <<'EOL')] }
local names = {}
for name, value in pairs(conf) do
    if not name:find("^_") and name ~= "access" then
        names[#names + 1] = name .. "=" .. (type(value) == "table" and (value.name or "{}") or tostring(value))
    end
end
table.sort(names)
return table.concat(names, " "), tostring(conf.optional), tostring(conf.inner.secret)
EOL
--- run
is(call()->{body}, '["flag=true inner=nobody integer=2 list={} number=1","nil","nil"]', 'a record that is not optional is there');
--- no_error_log
[error]

=== TEST 8: a configuration has members of Kong's own
--- kong eval
+{ services => [{ name => 's', routes => [{ name => 'r', paths => ['/'], plugins => [main::probe(access => sprintf $main::ANSWER, <<'EOL')] }] }] }
local id = conf.__plugin_id == kong.plugin.get_id() and require("kong.schema").is_uuid(conf.__plugin_id)
return id, (conf.__key__:gsub("%x+%-[%x-]+", "ID")), type(conf.__seq__), type(conf.route_id), type(conf.service_id), type(conf.consumer_id)
EOL
--- run
is(call()->{body}, '[true,"plugins:probe:ID::::default","number","string","nil","nil"]', 'their types');
--- no_error_log
[error]

=== TEST 9: references to the environment are resolved before a plugin sees them, those that cannot be are empty and logged
--- env
KB_SECRET=a secret of more than twenty octets
KB_JSON={"a":"b"}
--- kong eval
+{ plugins => [main::probe(text => '{vault://env/kb-secret}', list => ['plain', '{vault://env/kb-json/a}'], inner => { secret => '{vault://env/none}' },
    any => '{vault://env/kb-secret}', access => sprintf $main::ANSWER, <<'EOL')] }
return conf.text, conf.list[2], conf.inner.secret, conf.any, conf["$refs"].text, conf["$refs"].list[2], conf.inner["$refs"].secret,
    kong.vault.is_reference(conf.any), kong.vault.get(conf.any)
EOL
--- run
is(call()->{body}, '["a secret of more than twenty octets","b","","{vault:\/\/env\/kb-secret}","{vault:\/\/env\/kb-secret}","{vault:\/\/env\/kb-json\/a}",' .
    '"{vault:\/\/env\/none}",true,"a secret of more than twenty octets"]', 'where the schema says so, whatever their length');
is(errors(text => '{vault://}'), 'none', 'what is no reference to anything passes');
is(errors(text => '{vault://env/x'), 'none', 'as does a string that only looks like one');
is(errors(list => ['{vault://env/x}']), 'none', 'no pattern is asked of a reference');
is(errors(list => ['{vault://env/x']), '{"config":{"list":["invalid value: {vault:\/\/env\/x"]}}' =~ s/\\//gr, 'but of other strings');
is(errors(text => '{vault://env/x}', any => 'x'), 'none', 'checks between fields do not run with one');
--- error_log
unable to resolve reference {vault://env/none}
--- no_error_log
[error]

=== TEST 10: a secret that is rotated changes in the same table
--- env
KB_SECRET=old
--- kong eval
+{ plugins => [main::probe(text => '{vault://env/kb-secret}', inner => { secret => '{vault://env/kb-secret}' },
    access => 'rawset(_G, "seen", rawget(_G, "seen") or {}) seen[ngx.worker.pid()] = seen[ngx.worker.pid()] or conf
        kong.response.exit(200, conf.text .. " " .. conf.inner.secret .. " " .. tostring(seen[ngx.worker.pid()] == conf))')] }
--- run
is($_->{body}, 'old old true', 'before') for map { call() } 1 .. 4;
kong_rotate('kb-secret' => 'new');
is($_->{body}, 'new new true', 'after') for map { call() } 1 .. 4;
--- no_error_log
[error]

=== TEST 11: of a header that comes twice a plugin gets the first value, or a table of both
--- run
my $lua = 'local all = kong.request.get_headers() return kong.request.get_header("dpop"), type(all.dpop), all.dpop[2] or "-", type(kong.request.get_header("none"))';
for my $h2 (0, 1) {
    is(answer($lua, h2 => $h2, headers => ['DPoP: one', 'DPoP: two']), '["one","table","two","nil"]', "h2=$h2: twice");
    is(answer($lua =~ s/all\.dpop\[2\] or "-"/all.dpop/r, h2 => $h2, headers => ['DPoP: one']), '["one","string","one","nil"]', "h2=$h2: once");
}
is(answer('return kong.request.get_header("X_OTHER"), kong.request.get_headers().x_other', headers => ['x-Other: a']), '["a","a"]', 'however it is written');
is(call(headers => ['Authorization: a', 'Authorization: b'])->{status}, 400, 'nginx itself refuses two Authorization');
--- no_error_log
[error]

=== TEST 12: a plugin sees 100 headers, and more when it asks for more
--- run
my @many = map { sprintf 'X-%03d: %d', $_, $_ } 1 .. 120;
is(answer('local all, err = kong.request.get_headers() return type(kong.request.get_header("x-120")), type(all["x-120"]), err or "-"', headers => \@many),
    '["nil","nil","truncated"]', 'by default');
is(answer('local all, err = kong.request.get_headers(200) return all["x-120"], err or "-"', headers => \@many), '["120","-"]', 'with a limit');
is(fails("kong.request.get_headers($_->[0])"), "[false,\"$_->[1]\"]", "max_headers $_->[0]")
    for ['1001', 'max_headers must be <= 1000'], ['0', 'max_headers must be >= 1'], ['"1"', 'max_headers must be a number'];
is(fails('kong.request.get_header(1)'), '[false,"header name must be a string"]', 'a name is a string');
--- no_error_log
[error]

=== TEST 13: of the request: the path is normalized, what proxies say is not believed, ports are numbers
--- run
my $lua = 'local r = kong.request return r.get_path(), r.get_raw_path(), r.get_raw_query(), r.get_method(), r.get_scheme(), r.get_host(), type(r.get_port()),
    r.get_forwarded_scheme(), r.get_forwarded_host(), type(r.get_forwarded_port()), r.get_forwarded_port() == r.get_port()';
my @forwarded = (headers => ['X-Forwarded-Proto: ftp', 'X-Forwarded-Host: other', 'X-Forwarded-Port: 1']);
is(answer($lua, path => '/probe/%61/../b%2fc?x=%20', @forwarded) =~ tr/\\//dr,
    '["/probe/b%2Fc","/probe/%61/../b%2fc","x=%20","GET","https","api.test","number","https","api.test","number",true]', 'with TLS');
is(answer($lua, path => '/', plain => 1, method => 'POST', data => '') =~ tr/\\//dr,
    '["/","/","","POST","http","api.test","number","http","api.test","number",true]', 'without');
my %post = (plain => 1, method => 'POST');
is(answer('return kong.request.get_raw_body()', %post, data => 'a=1'), '["a=1"]', 'its body');
is(answer('return kong.request.get_raw_body()'), '[""]', 'none');
is(answer('return kong.request.get_raw_body()', %post, data => 'a' x 100000),
    q{[null,"request body did not fit into client body buffer, consider raising 'client_body_buffer_size'"]}, 'one that is in a file');
--- no_error_log
[error]

=== TEST 14: in 3.4 a forwarded port is a string
--- flavour: 3.4
--- run
is(answer('local r = kong.request return type(r.get_forwarded_port()), r.get_forwarded_port() == tostring(r.get_port()), type(r.get_port()), kong.version, kong.version_num'),
    '["string",true,"number","3.4.2",3004002]', 'and the port is a number');
--- no_error_log
[error]

=== TEST 15: trusted proxies are believed
--- trusted
--- run
is(answer('local r = kong.request return r.get_forwarded_scheme(), r.get_forwarded_host(), r.get_forwarded_port(), r.get_scheme(), kong.version',
    headers => ['X-Forwarded-Proto: HTTP', 'X-Forwarded-Host: Other', 'X-Forwarded-Port: 1']), '["http","other",1,"https","3.9.0"]', 'their headers');
--- no_error_log
[error]

=== TEST 16: kong.response.exit gives the body as it is, a table as JSON
--- run
sub exits { kong_reload({ plugins => [probe(access => "kong.response.exit($_[0])")] }); return call() }
sub shown { my ($r) = @_; return join '|', $r->{status}, $r->{body}, map { scalar header($r, $_) } qw(Content-Type Content-Length) }
is(shown(exits('401, "{}"')), '401|{}||2', 'a string');
is(shown(exits('401, "{}", { ["content-type"] = "application/x" }')), '401|{}|application/x|2', 'a string with its type');
is(shown(exits('403, { message = "no" }')), '403|{"message":"no"}|application/json; charset=utf-8|16', 'a table');
is(shown(exits('403, { message = "no" }, { ["Content-Type"] = "application/x" }')), '403|{"message":"no"}|application/x|16', 'a table with its type');
is(join('|', @{ exits('503') }{qw(status body)}), '503|', 'nothing');
is(header(exits('401, "", { ["WWW-Authenticate"] = { "Bearer", "DPoP" } }'), 'WWW-Authenticate'), 'DPoP', 'of several challenges the last one is left');
is(scalar header(exits('401, "", { ["X-A"] = { "1", "2" }, ["X-B"] = 3 }'), 'X-A'), '1, 2', 'other headers have several values');
--- no_error_log
[error]

=== TEST 17: what a plugin adds to the response, and the challenge that is left of two
--- kong eval
+{ plugins => [main::probe(header_filter => <<'EOL')] }
kong.response.set_header("X-Status", kong.response.get_status())
kong.response.set_header("X-Exit", tostring(pcall(kong.response.exit, 200, "body")))
kong.response.add_header("WWW-Authenticate", "Bearer")
kong.response.add_header("WWW-Authenticate", "DPoP")
kong.response.add_header("X-A", 1)
kong.response.add_header("X-A", true)
kong.response.clear_header("X-Upstream")
EOL
--- upstream
location / { add_header X-Upstream secret; return 202; }
--- run
my $r = call();
is(join('|', map { scalar header($r, $_) } qw(X-Status WWW-Authenticate X-A X-Upstream X-Exit)), '202|DPoP|1, true||false', 'in header_filter, where there is no exit with a body');
--- no_error_log
[error]

=== TEST 18: kong.response.exit ends the plugin and those after it; their later phases run all the same
--- kong eval
+{ plugins => [main::probe(header_filter => 'kong.response.set_header("X-Later", "yes")', log => 'kong.log.warn("log ran")', access => 'kong.response.set_header("X-Access", "yes")'),
    { name => 'key-auth-probe', config => {} }] }
--- run
log_mark();
my $r = call();
is(join('|', $r->{status}, $r->{body}, scalar header($r, 'WWW-Authenticate'), scalar header($r, 'X-Access'), scalar header($r, 'X-Later')),
    '401|{"message":"No API key found in request"}|Key||yes', 'refused by another plugin');
is(logged(qr/log ran/), 'log ran', 'the log');
kong_reload({ plugins => [probe(access => 'kong.response.exit(200, "first") kong.log.warn("never")')] });
log_mark();
is(call()->{body}, 'first', 'what comes after exit');
is(logged(), '', 'does not run');
--- no_error_log
[error]

=== TEST 19: an error in a plugin is a 500 that says nothing
--- kong eval
+{ plugins => [main::probe(access => 'error("secret reason")')] }
--- run
my $r = call();
is("$r->{status} $r->{body}", '500 {"message":"An unexpected error occurred"}', 'to the client');
--- error_log
secret reason

=== TEST 20: a PDK function in a phase where Kong does not have it raises an error
--- kong eval
+{ plugins => [main::probe(map { $_ => 'for _, f in ipairs({ "request.get_header", "response.exit", "response.set_header", "response.get_status", "service.request.set_header",
    "client.authenticate", "client.get_consumer", "client.tls.request_client_certificate", "client.tls.get_full_client_certificate_chain", "log.serialize",
    "log.set_serialize_value" }) do local value = kong
    for name in f:gmatch("%w[%w_]*") do value = value[name] end
    local ok, err = pcall(value)
    if not ok and tostring(err):find("only in") then kong.log.warn("' . $_ . ' ", f) end end' } qw(certificate rewrite access header_filter body_filter log)) ] }
--- run
log_mark();
call(cert => 'client');
my %seen;
for (split /\|/, logged(qr/ log client\.tls/)) { my ($phase, $f) = split / /; push @{ $seen{$phase} }, $f unless grep { $_ eq $f } @{ $seen{$phase} // [] } }
my $tls = 'client.tls.request_client_certificate';
my $chain = 'client.tls.get_full_client_certificate_chain';
is(join(' ', @{ $seen{certificate} }), "request.get_header response.exit response.set_header response.get_status service.request.set_header client.authenticate client.get_consumer $chain log.serialize log.set_serialize_value", 'certificate');
is(join(' ', @{ $seen{rewrite} }), "response.get_status client.authenticate client.get_consumer $tls log.serialize", 'rewrite');
is(join(' ', @{ $seen{access} }), "response.get_status $tls log.serialize", 'access');
is(join(' ', @{ $seen{header_filter} }), "service.request.set_header client.authenticate $tls $chain log.serialize", 'header_filter');
is(join(' ', @{ $seen{body_filter} }), "response.exit response.set_header service.request.set_header client.authenticate $tls $chain log.serialize", 'body_filter');
is(join(' ', @{ $seen{log} }), "response.exit response.set_header service.request.set_header client.authenticate $tls", 'log');
is(fails('kong.response.get_status()'), '[false,"function cannot be called in access phase (only in: response, header_filter, body_filter, log, error, admin_api)"]', 'its words');
--- no_error_log
[error]

=== TEST 21: a name that is not of the PDK raises an error that tells it
--- run
is(fails("return kong.$_->[0]"), "[false,\"kong.$_->[1]: the host of the tests has no such name\"]", $_->[0])
    for ['request.get_cookie()', 'request.get_cookie'], ['tracing', 'tracing'], ['ctx.core', 'ctx.core'], ['db.oauth2', 'db.oauth2'], ['client.tls.set_client_verify', 'client.tls.set_client_verify'];
is(fails('kong.configuration.role = "x"'), '[false,"cannot write to configuration: role"]', 'the configuration cannot be written');
is(answer('return kong.configuration.role, #kong.configuration.nginx_proxy_directives, type(kong.configuration.none)'), '["traditional",0,"nil"]', 'but read');
--- no_error_log
[error]

=== TEST 22: arguments are checked as Kong does
--- run
is(fails($_->[0]), json([JSON::PP::false, $_->[1]]), $_->[0]) for
    ['kong.service.request.set_header("a", {})', 'invalid header value for "a": got table, expected string, number or boolean'],
    ['kong.service.request.set_header("a", nil)', 'invalid header value for "a": got nil, expected string, number or boolean'],
    ['kong.service.request.set_header(1, "a")', 'invalid header name "1": got number, expected string'],
    ['kong.service.request.clear_header(nil)', 'header must be a string'],
    ['kong.response.exit("200")', 'code must be a number'], ['kong.response.exit(99)', 'code must be a number between 100 and 599'],
    ['kong.response.exit(200, 1)', 'body must be a nil, string or table'], ['kong.response.exit(200, "", "a")', 'headers must be a nil or table'],
    ['kong.client.authenticate("a")', 'consumer must be a table or nil'], ['kong.client.authenticate(nil, "a")', 'credential must be a table or nil'],
    ['kong.client.authenticate()', 'either credential or consumer must be provided'],
    ['kong.client.load_consumer(1)', 'consumer_id must be a string'], ['kong.client.load_consumer("bob")', 'cannot load a consumer with an id that is not a uuid'],
    ['kong.cache:get(1, nil, print)', 'key must be a string'], ['kong.log.set_serialize_value(1)', 'key must be a string'],
    ['kong.log.set_serialize_value("a", 1, { mode = "x" })', "mode must be 'set', 'add' or 'replace'"];
--- no_error_log
[error]

=== TEST 23: the upstream gets the headers that a plugin sets, adds and clears, and those that Kong adds
--- kong eval
+{ plugins => [main::probe(access => 'local r = kong.service.request r.set_header("X-A", "1") r.set_header("X-B", true) r.add_header("X-C", "new") r.clear_header("X-D")')] }
--- run
my $r = call(headers => ['X-A: old', 'X-C: old', 'X-D: old', 'X-E: old', 'X_F: old'], path => '/p?q');
is(upstream_saw($r, 'x-\w|x_\w'), 'x-a: 1|x-b: true|x-c: new|x-c: old|x-e: old|x_f: old', 'by the plugin; a name with an underscore arrives, as Kong has it');
is(upstream_saw($r, 'x-forwarded-(?:proto|host|path)|host|connection'), 'connection: keep-alive|host: api.test|x-forwarded-host: api.test|x-forwarded-path: /p|x-forwarded-proto: https', 'by Kong');
like($r->{body}, qr{^GET /p\?q HTTP/1\.1\r}, 'the request as it came');
--- no_error_log
[error]

=== TEST 24: a global plugin asks for certificates in its certificate phase
--- kong eval
+{ plugins => [main::probe(certificate => 'assert(kong.client.tls.request_client_certificate())',
    access => sprintf $main::ANSWER, 'return (ngx.var.ssl_client_raw_cert or ""):sub(1, 27), ngx.var.ssl_client_verify:sub(1, 7)')] }
--- run
for my $tls ('1.2', '1.3') {
    is(call(cert => 'client', tls => $tls)->{body}, '["-----BEGIN CERTIFICATE-----","FAILED:"]', "$tls: it comes, and is not verified");
    is(call(tls => $tls)->{body}, '["","NONE"]', "$tls: it need not");
    is(call(cert => 'expired', tls => $tls)->{status}, 200, "$tls: whatever it is");
}
--- no_error_log
[error]

=== TEST 25: a plugin of a route or a service has no certificate phase
--- kong eval
+{ services => [{ name => 's', plugins => [main::probe(certificate => 'kong.log.warn("ran")', access => 'kong.response.exit(200, ngx.var.ssl_client_raw_cert and "there" or "none")')],
    routes => [{ name => 'r', paths => ['/'] }] }] }
--- run
log_mark();
is(call(cert => 'client')->{body}, 'none', 'no certificate');
is(logged(), '', 'it did not run');
--- no_error_log
[error]

=== TEST 26: nginx can ask in its place: nginx_proxy_ssl_verify_client = optional_no_ca
--- listener: optional_no_ca
--- kong eval
+{ services => [{ name => 's', plugins => [main::probe(access => 'local d = kong.configuration.nginx_proxy_directives[1]
    kong.response.exit(200, ngx.var.ssl_client_verify:sub(1, 6) .. " " .. d.name .. " " .. d.value)')], routes => [{ name => 'r', paths => ['/'] }] }] }
--- run
is(call(cert => $_->[0])->{body}, "$_->[1] ssl_verify_client optional_no_ca", $_->[0]) for ['client', 'FAILED'], ['-', 'NONE'];
--- no_error_log
[error]

=== TEST 27: or another plugin, for all connections
--- listener: asks
--- kong eval
+{ services => [{ name => 's', plugins => [main::probe(access => 'kong.response.exit(200, ngx.var.ssl_client_raw_cert and "there" or "none")')], routes => [{ name => 'r', paths => ['/'] }] }] }
--- run
is(call(cert => $_->[0])->{body}, $_->[1], $_->[0]) for ['client', 'there'], ['-', 'none'];
--- no_error_log
[error]

=== TEST 28: nginx verifies where it is told to, and refuses before any plugin; that is seen by later phases only
--- listener: optional
--- kong eval
+{ plugins => [main::probe(access => 'kong.response.exit(200, ngx.var.ssl_client_verify)', log => 'kong.log.warn("log ", ngx.status)')] }
--- run
log_mark();
is(call(cert => 'client')->{body}, 'SUCCESS', 'of our CA');
is(call()->{body}, 'NONE', 'none');
my $r = call(cert => 'expired');
is($r->{status}, 400, 'another one');
unlike($r->{body}, qr/SUCCESS|FAILED/, 'is not seen by the plugin');
is(call(headers => ['Authorization: a', 'Authorization: b'])->{status}, 400, 'nor is what nginx does not understand');
is(logged(qr/log 400/), 'log 200|log 200|log 400', 'but by its log, without an access phase before');
--- no_error_log
[error]

=== TEST 29: on a resumed session there is no chain, but nginx still has the certificate
--- kong eval
+{ plugins => [main::probe(certificate => 'kong.client.tls.request_client_certificate()',
    access => sprintf $main::ANSWER, 'local chain, err = kong.client.tls.get_full_client_certificate_chain() return chain and #chain > 100, err or "-", ngx.var.ssl_session_reused, ngx.var.ssl_client_raw_cert and 1')] }
--- run
for my $tls ('1.2', '1.3') {
    for my $no_ticket (0, 1) {
        my %call = (cert => 'client', tls => $tls, no_ticket => $no_ticket);
        my $session = "$RUN/session.$tls.$no_ticket";
        is(s_client(%call, save => $session)->{body}, '[true,"-",".",1]', "$tls, no_ticket $no_ticket: first");
        is(s_client(%call, resume => $session)->{body}, '[null,"-","r",1]', "$tls, no_ticket $no_ticket: resumed");
    }
}
is(call()->{body}, '[null,"-","."]', 'no certificate: no chain, no error');
is(call(plain => 1)->{body} =~ s/,null.*/]/r, '[null,"connection is not TLS or TLS support for Nginx not enabled"]', 'no TLS: an error');
--- no_error_log
[error]

=== TEST 30: disable_session_reuse: each connection is new
--- kong eval
+{ plugins => [main::probe(certificate => 'kong.client.tls.request_client_certificate() assert(kong.client.tls.disable_session_reuse())',
    access => sprintf $main::ANSWER, 'return kong.client.tls.get_full_client_certificate_chain() and true or false, ngx.var.ssl_session_reused')] }
--- run
for my $tls ('1.2', '1.3') {
    for my $no_ticket (0, 1) {
        my %call = (cert => 'client', tls => $tls, no_ticket => $no_ticket);
        my $session = "$RUN/none.$tls.$no_ticket";
        is(s_client(%call, save => $session)->{body}, '[true,"."]', "$tls, no_ticket $no_ticket: first");
        is(s_client(%call, -s $session ? (resume => $session) : ())->{body}, '[true,"."]', "$tls, no_ticket $no_ticket: second");
    }
}
--- no_error_log
[error]

=== TEST 31: the chain begins with the certificate; what the client sends with it follows
--- listener: optional_no_ca
--- kong eval
+{ plugins => [main::probe(access => 'local chain = kong.client.tls.get_full_client_certificate_chain()
    kong.response.exit(200, select(2, chain:gsub("BEGIN", "")) .. " " .. tostring(chain:sub(1, #ngx.var.ssl_client_raw_cert - 1) == ngx.var.ssl_client_raw_cert:gsub("%s*$", "")))')] }
--- run
write_file("$PKI/chained.crt", read_file("$PKI/client.crt") . read_file("$PKI/ca.crt"));
write_file("$PKI/chained.key", read_file("$PKI/client.key"));
self_signed('alone', '/CN=alone');
is(call(cert => 'alone')->{body}, '1 true', 'alone');
is(call(cert => 'chained')->{body}, '2 true', 'with its CA');
is(call(cert => 'client')->{body}, '2 true', 'which a client may add by itself');
--- no_error_log
[error]

=== TEST 32: configure is called in each worker with the plugin's configurations, and with nil where there are none
--- kong eval
+{ plugins => [main::probe(text => 'a')], services => [{ name => 's', routes => [{ name => 'r', paths => ['/'], plugins => [main::probe(text => 'b')] }] }] }
--- run
sub configured { return join ' | ', sort map { /\[probe\] (configure: .*?|init_worker)(?:, context: .*)?$/ ? $1 : () } split /\n/, $_[0] }
is(configured(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log")), join(' | ', ('configure: a b') x 2, ('init_worker') x 2), 'at the start');
log_mark();
kong_reload({ plugins => [probe(text => 'c')] });
is(configured(log_since()), 'configure: c | configure: c', 'after a reload');
log_mark();
kong_reload({});
is(configured(log_since()), 'configure: nil | configure: nil', 'without an instance');
--- no_error_log
[error]

=== TEST 33: 3.4 has no configure
--- flavour: 3.4
--- kong eval
+{ plugins => [main::probe(text => 'a')] }
--- run
kong_reload({ plugins => [probe(text => 'c')] });
unlike(read_file("$ENV{TEST_NGINX_SERVROOT}/logs/error.log"), qr/configure:/, 'no call');
--- error_log
init_worker
--- no_error_log
[error]

=== TEST 34: a reload gives new tables at once; requests under way keep theirs
--- kong eval
+{ plugins => [main::probe(text => 'old', access => 'kong.log.warn("begun") ngx.sleep(0.6)', header_filter => 'kong.response.set_header("X-Text", conf.text)')] }
--- run
log_mark();
my $slow = Keybound::start_command('', Keybound::_curl_words(), '-i');
logged(qr/begun/);
kong_reload({ plugins => [probe(text => 'new', header_filter => 'kong.response.set_header("X-Text", conf.text)')] });
is(scalar header(call(), 'X-Text'), 'new', 'who comes now') for 1 .. 6;
my (undef, $out) = Keybound::finish_command($slow);
like($out, qr/^X-Text: old\r$/m, 'who came before');
--- no_error_log
[error]

=== TEST 35: a configuration is the same table from request to request, and through the phases of one
--- kong eval
+{ plugins => [main::probe(rewrite => 'ngx.ctx.first = conf', access => 'kong.ctx.plugin.conf = conf',
    header_filter => 'kong.response.set_header("X-Same", tostring(ngx.ctx.first == conf) .. " " .. tostring(kong.ctx.plugin.conf == conf) .. " " .. tostring(conf):sub(8))')] }
--- run
my @seen = map { scalar header($_, 'X-Same') } calls_on_one_connection(({}) x 3);
like($seen[0], qr/^true true 0x/, 'within a request');
is($seen[1], $seen[0], 'from request to request');
is($seen[2], $seen[0], 'and again');
--- no_error_log
[error]

=== TEST 36: rebuild: another table at each request, of the same content
--- flavour: 3.4
--- rebuild
--- kong eval
+{ plugins => [main::probe(text => 'same', access => 'kong.ctx.plugin.conf = conf',
    header_filter => 'kong.response.set_header("X-Same", conf.text .. " " .. tostring(kong.ctx.plugin.conf == conf) .. " " .. tostring(conf.__seq__))')] }
--- run
my @seen = map { scalar header($_, 'X-Same') } calls_on_one_connection(({}) x 3);
like($_, qr/^same true \d+$/, 'within a request the same') for @seen;
my %all = map { $_ => 1 } @seen;
is(scalar keys %all, 3, 'three tables');
--- no_error_log
[error]

=== TEST 37: the most specific instance runs, alone; in rewrite only the global one
--- kong eval
my $tell = sub { return (text => $_[0], rewrite => 'kong.ctx.shared.rewritten = conf.text', access => 'kong.response.exit(200, conf.text .. " " .. tostring(kong.ctx.shared.rewritten))') };
+{ plugins => [main::probe($tell->('global'))], services => [
    { name => 'a', plugins => [main::probe($tell->('service'))], routes => [{ name => 'ar', paths => ['/a/r'], plugins => [main::probe($tell->('route'))] }, { name => 'a', paths => ['/a'] }] },
    { name => 'b', routes => [{ name => 'b', paths => ['/b'], plugins => [{ main::probe($tell->('disabled'))->%*, enabled => JSON::PP::false }] }] }] }
--- run
is(call(path => $_->[0])->{body}, $_->[1], $_->[0]) for ['/a/r/x', 'route global'], ['/a/x', 'service global'], ['/b', 'global global'];
is(join(' ', @{ call(path => '/c') }{qw(status body)}), '404 {"message":"no Route matched with those values"}', 'no route');
--- no_error_log
[error]

=== TEST 38: kong.ctx.shared is one for all plugins of a request, kong.ctx.plugin each has its own
--- kong eval
+{ plugins => [{ name => 'acl-probe', config => { allow => ['g1'] } }, main::probe(access => 'kong.ctx.shared.authenticated_groups = ngx.req.get_headers().x_groups and { "g0", ngx.req.get_headers().x_groups }
    kong.response.set_header("X-Plugin", tostring(kong.ctx.plugin.seen)) kong.ctx.plugin.seen = true')] }
--- run
is(call(headers => ["X-Groups: $_->[0]"])->{status}, $_->[1], "groups g0, $_->[0]") for ['g1', 200], ['g2', 403];
is(call()->{status}, 401, 'nobody is authenticated');
is(join(' ', map { scalar header($_, 'X-Plugin') } calls_on_one_connection(({ headers => ['X-Groups: g1'] }) x 2)), 'nil nil', 'of each request');
--- no_error_log
[error]

=== TEST 39: who is authenticated is seen by later plugins; acl decides by groups of the consumer
--- kong eval
+{ consumers => [{ username => 'alice', custom_id => 'a-1', acls => [{ group => 'g1' }] }, { username => 'bob', acls => [{ group => 'g2' }] }],
   plugins => [{ name => 'acl-probe', config => { allow => ['g1'] } }, main::probe(access => <<'EOL')] }
local name, how = kong.request.get_header("x-name"), kong.request.get_header("x-how")
if how == "credential" then kong.client.authenticate(nil, { id = "x" }) return end
local consumer = name and kong.client.load_consumer(name, true)
if consumer then
    kong.client.authenticate(consumer, { id = "x" })
    kong.response.set_header("X-Seen", kong.client.get_consumer().username .. " " .. kong.client.get_credential().id .. " " .. tostring(consumer.custom_id) .. " " .. tostring(consumer.acls))
end
EOL
--- run
my $alice = call(headers => ['X-Name: alice']);
is("$alice->{status} " . header($alice, 'X-Seen'), '200 alice x a-1 nil', 'of the group');
is(upstream_saw($alice, 'x-consumer.*|x-credential.*'), '', 'authenticate() sets no header');
is(join(' ', @{ call(headers => ['X-Name: bob']) }{qw(status body)}), '403 {"message":"You cannot consume this service"}', 'of another group');
is(call(headers => ['X-How: credential'])->{status}, 403, 'a credential alone');
is(call(headers => ['X-Name: carol'])->{status}, 401, 'nobody');
--- no_error_log
[error]

=== TEST 40: another authentication plugin: by apikey, with the headers of Kong's own
--- kong eval
+{ consumers => [{ username => 'alice', custom_id => 'a-1' }, { username => 'guest' }], plugins => [{ name => 'key-auth-probe', config => {} }] }
--- run
my $spoofed = 'X-Consumer-Username: root';
is(upstream_saw(call(headers => ['apikey: alice', $spoofed]), 'x-consumer-(?:username|custom-id)|x-anonymous.*'), 'x-consumer-custom-id: a-1|x-consumer-username: alice', 'a consumer');
is(call(headers => ["apikey: $_"])->{status}, 401, "apikey $_") for qw(bob x);
kong_reload({ consumers => [{ username => 'guest' }], plugins => [{ name => 'key-auth-probe', config => { anonymous => 'guest' } }] });
is(upstream_saw(call(headers => [$spoofed]), 'x-consumer-(?:username|custom-id)|x-anonymous.*'), 'x-anonymous-consumer: true|x-consumer-username: guest', 'anonymous');
--- no_error_log
[error]

=== TEST 41: entities are found by their unique fields, each result a table of its own
--- kong eval
+{ consumers => [{ id => '8c69843e-7883-490c-8f9d-cf1a4e16adb4', username => 'alice', custom_id => 'a-1' }, { username => 'bob' }],
   certificates => [{ id => '9c69843e-7883-490c-8f9d-cf1a4e16adb4', cert => 'C', key => '{vault://env/kb-key}' }],
   plugins => [main::probe(access => sprintf $main::ANSWER, <<'EOL')] }
local consumers, certificates, alice = kong.db.consumers, kong.db.certificates, "8c69843e-7883-490c-8f9d-cf1a4e16adb4"
local one, two = consumers:select({ id = alice }), consumers:select_by_username("alice")
return one.username, one == two, consumers:select_by_custom_id("a-1").id == alice, type(consumers:select_by_username("bob").custom_id),
    tostring(consumers:select_by_username("carol")), tostring(consumers:select({ id = "0c69843e-7883-490c-8f9d-cf1a4e16adb4" })),
    select("#", consumers:select_by_username("carol")), consumers:cache_key(alice), certificates:select({ id = "9c69843e-7883-490c-8f9d-cf1a4e16adb4" }).key,
    select(2, certificates:select({ id = "x" }))
EOL
--- env
KB_KEY=K
--- run
is(call()->{body}, '["alice",false,true,"nil","nil","nil",2,"consumers:8c69843e-7883-490c-8f9d-cf1a4e16adb4:::::default","K","[off] invalid primary key: ' . q('{id=\"expected a valid UUID\"}'"]), 'consumers and certificates');
--- no_error_log
[error]

=== TEST 42: kong.cache remembers values as the same table, misses, and no errors
--- run
my @calls = map { { path => "/$_" } } 1 .. 2;
kong_reload({ plugins => [probe(access => sprintf $main::ANSWER, <<'EOL')] });
local n = 0
local function get(key, result, err, opts) return kong.cache:get(key, opts, function(argument) n = n + 1 return result, err end, 1) end
local first, second = get("table", { a = 1 }), get("table", { a = 2 })
get("miss", nil, nil, { neg_ttl = 60 })
get("miss", nil, nil, { neg_ttl = 60 })
local none, err = get("error", nil, "failed")
local _, err2 = get("error", nil, "failed again")
local _, thrown = kong.cache:get("throws", nil, function() error("oops", 0) end)
local _, unfit = get("function", { print })
local ttl, _, value = kong.cache:probe("table")
local absent = kong.cache:probe("absent")
kong.cache:invalidate("table")
local third = get("table", { a = 3 })
kong.cache:invalidate("table")
kong.cache:invalidate("miss")
return first == second, first.a, tostring(none), err, err2, thrown, unfit ~= nil, ttl, value == first, tostring(absent), third.a, n
EOL
my $expected = '[true,1,"nil","failed to get from node cache: failed","failed to get from node cache: failed again","failed to get from node cache: callback threw an error: oops",true,0,true,"nil",3,6]';
is($_->{body}, $expected, 'in a worker') for calls_on_one_connection(@calls);
kong_reload({ plugins => [probe(access => 'kong.response.exit(200, kong.cache:get("shared", nil, function() return { pid = ngx.worker.pid() } end).pid .. "")')] });
my %seen;
$seen{call()->{body}}++ for 1 .. 20;
is(scalar keys %seen, 1, 'workers share what one has loaded');
kong_reload({ plugins => [probe(access => 'kong.cache:get("ttl", { ttl = 1 }, function() kong.log.warn("loaded") return 1 end)')] });
log_mark();
calls_on_one_connection(({}) x 2);
pause(1.2);
call();
is(logged(), 'loaded|loaded', 'until it is too old');
--- no_error_log
[error]

=== TEST 43: what plugins add to the log of requests
--- kong eval
+{ consumers => [{ username => 'alice' }], plugins => [main::probe(access => <<'EOL')] }
kong.log.set_serialize_value("keybound.reason", "allowed")
kong.log.set_serialize_value("keybound.reason", "never", { mode = "add" })
kong.log.set_serialize_value("none", 1, { mode = "replace" })
kong.log.set_serialize_value("response.status", 299, { mode = "replace" })
kong.client.authenticate(kong.db.consumers:select_by_username("alice"), { id = "c-1", consumer_id = "x" })
EOL
--- run
call(path => '/x', headers => ['Authorization: secret', 'X-A: b']);
my ($one, @more) = serialized();
is(scalar @more, 0, 'one line for a request');
is(json([$one->{keybound}, $one->{none}, $one->{response}{status}, $one->{consumer}{username}, $one->{authenticated_entity}, $one->{request}{uri}, $one->{route}{name}, $one->{service}{name}]),
    '[{"reason":"allowed"},null,299,"alice",{"consumer_id":"x","id":"c-1"},"/x","all","api"]', 'by their mode');
is(json([@{ $one->{request}{headers} }{qw(authorization x-a)}]), '["REDACTED","b"]', 'without credentials');
is(scalar(() = serialized(0)), 0, 'until the next request');
kong_reload({ plugins => [probe(access => 'kong.log.set_serialize_value("f", print)')] });
log_mark();
call();
logged(qr/value must/);
--- error_log
value must be nil, a number, string, boolean

=== TEST 44: kong.log tells file, line and plugin
--- kong eval
+{ plugins => [main::probe(access => "\nkong.log.err('an error') kong.log('a ', nil, ' notice')")] }
--- run
call();
--- error_log
[kong] access:2 [probe] an error
[kong] access:2 [probe] a nil notice

=== TEST 45: the Status API has the routes of plugins
--- run
is(join(' ', @{ status('/probe') }{qw(status body)}), '200 status of the probe', 'one');
is(status('/other')->{status}, 404, 'no other');
--- no_error_log
[error]

=== TEST 46: the names of a block's configuration are replaced, and what Keybound.pm has is there
--- kong
{ "plugins": [{ "name": "probe", "config": { "any": "$PKI $UPSTREAM", "access": "kong.log.warn('[keybound] refused, reason=no_token, status=401') kong.response.exit(401, conf.any)" } }] }
--- run
log_mark();
is(call(token => 'bound', cert => 'client')->{body}, "$PKI unix:$ENV{TEST_NGINX_SERVROOT}/logs/upstream.sock", 'names');
is(join('', reasons()), '401 no_token', 'a refusal in the log');
is(keybound(realm => 'x', jwks => undef)->{config}{issuer}, 'https://as.test', 'an instance for the tests\' issuer');
--- no_error_log
[error]

=== TEST 47: a request that the upstream fails keeps what plugins noted of it
--- upstream
location / { return 444; }
--- kong eval
+{ plugins => [main::probe(access => 'kong.ctx.plugin.a = "noted" kong.log.set_serialize_value("a", "b")', log => 'kong.log.warn("log ", kong.ctx.plugin.a, " ", ngx.status)')] }
--- run
log_mark();
is(call()->{status}, 502, 'bad gateway');
is((serialized())[0]{a}, 'b', 'in the serialized log');
is(logged(qr/log noted/), 'log noted 502', 'in kong.ctx');
--- no_error_log
[alert]

=== TEST 48: after a reload of nginx plugins are loaded again, with the configuration from the start
--- kong eval
+{ plugins => [main::probe(text => 'first', access => 'kong.response.exit(200, conf.text .. " " .. self.loaded.phase)')] }
--- run
kong_reload({ plugins => [probe(text => 'second', access => 'kong.response.exit(200, conf.text)')] });
is(call()->{body}, 'second', 'before');
log_mark();
kill HUP => Test::Nginx::Util::get_pid_from_pidfile('hup');
is(scalar(() = logged(qr/configure: first.*configure: first/s) =~ /configure: first/g), 2, 'configure in each new worker');
my $new = 0;
for (1 .. 100) {
    $new = call()->{body} eq 'first init' ? $new + 1 : 0;
    last if $new == 6;
    pause(0.05);
}
is($new, 6, 'and no other answers');
--- no_error_log
[error]

=== TEST 49: the table of calls asks a plugin as it asks an engine
--- listener: asks
--- kong eval
+{ plugins => [main::probe(any => main::json(\%Keybound::DEFAULTS), access => <<'EOL')] }
local engine = assert(require("resty.keybound").new(conf.any))
local decision = engine:decide()
if not decision.allowed then
    kong.log.warn("keybound: refused, reason=", decision.reason, ", status=", decision.status)
    kong.response.exit(decision.status, decision.body, { ["WWW-Authenticate"] = decision.www_authenticate, ["Content-Type"] = decision.content_type, ["Cache-Control"] = "no-store" })
end
EOL
--- calls
client bound    -> 200
client bound h2 -> 200
thief  bound    -> 401 invalid_token certificate_mismatch
thief  bound h2 -> 401 invalid_token certificate_mismatch
client -        -> 401 - no_token
--- no_error_log
[error]
