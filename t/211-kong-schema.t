# The schema of the plugin: it has the engine's options as docs/configuration.md, which is made of them, has them; and it refuses, at the
# field that is wrong, what a worker could not use.
use Kong;
use Test::Nginx::Socket 'no_plan';

# `/schema`: the fields as they are written down; `/stored`: a configuration as Kong stores it, and the Admin API shows it.
add_block_preprocessor(sub {
    $_[0]->set_value(config => <<'EOC');
        location = /schema {
            content_by_lua_block {
                local function plain(value)
                    if type(value) == "function" then return nil end
                    if type(value) ~= "table" then return value end
                    local copy = {}
                    for name, member in pairs(value) do copy[name] = plain(member) end
                    return copy
                end
                for _, entry in ipairs(require("kong.plugins.keybound.schema").fields) do
                    if entry.config then ngx.print(require("cjson").encode(plain(entry.config.fields))) end
                end
            }
        }
        location = /stored {
            content_by_lua_block {
                local cjson = require "cjson"
                ngx.req.read_body()
                local checks = require("kong.schema").load("keybound", require "kong.plugins.keybound.schema")
                local stored, errors = checks:insert { name = "keybound", config = cjson.decode(ngx.req.get_body_data()) }
                ngx.print(cjson.encode(stored and stored.config or { errors = errors }))
            }
        }
EOC
});

our ($TRUE, $FALSE) = (JSON::PP::true, JSON::PP::false);
sub fields { return map { my ($name) = keys %$_; [ $name, $_->{$name} ] } @{ json(call(plain => 1, path => '/schema')->{body}) } }
# The engine's options, and those of the plugin.
sub parts {
    my @all = fields();
    my ($n) = grep { $all[$_][0] eq 'shared_dict' } 0 .. $#all;
    return ([@all[0 .. $n - 1]], [@all[$n .. $#all]]);
}
sub stored { return json(call(plain => 1, method => 'POST', path => '/stored', data => json($_[0]))->{body}) }

# What a field says, in one line.
sub describe {
    my ($field) = @_;
    my $type = $field->{type};
    $type .= ' ' . join ' to ', @{ $field->{between} } if $field->{between};
    $type .= ' of one' if $type eq 'array' && ($field->{len_max} // 0) == 1;
    $type .= ' of ' . describe($field->{elements}) if $field->{elements};
    $type .= ': ' . join ' ', sort @{ $field->{one_of} } if $field->{one_of};
    $type .= ' or empty' if defined $field->{len_min} && $field->{len_min} == 0;
    return $type;
}
sub default { return defined $_[0]{default} ? JSON::PP->new->allow_nonref->canonical->encode($_[0]{default}) : 'none' }

# The rows of a table, without the ticks of the first column: name, type, default, ..., meaning
sub rows { return map { [ map { s/^\s+|\s+$//gr } split /\|/, $_ =~ s/^\| `(\w+)`/$1 /r =~ s/\|\s*$//r ] } $_[0] =~ /^(\| `\w+` \|.*)$/mg }
our @TABLE = rows(read_file("$ROOT/docs/configuration.md"));
our ($OWN) = read_file("$ROOT/docs/kong.md") =~ /^## Options of the plugin\n(.*?)^What differs/ms;
our %IN_TABLE = map { $_->[0] => $_ } @TABLE;

# Where the schema cannot say what the table says: Kong has no unions.
our %EXCEPTIONS = (
    # An array with one element, where the engine also takes that by itself; arrays are what Kong Enterprise has.
    'array of one' => 'client_alg client_auth client_id client_jwk client_secret logout_redirect_uri redirect_uri',
    # JSON in strings.
    'JSON' => 'client_jwk downstream_headers_claims issuers_allowed jwks upstream_headers_claims',
    # Names to records.
    'map' => 'client_certificates',
    # Only the meaning says what is valid.
    'by its meaning' => 'algorithms introspection_hint public_origin trusted_ips',
    # Not required where another option says that it is not wanted.
    'required by the engine' => 'audience_required',
);
our %excepted;

sub among { return join ' ', sort $_[0] =~ /`([^`]+)`/g }
# The same line, of a type as the table has it.
sub described {
    my ($name, $type, $meaning) = @_;
    $type = $IN_TABLE{$1}[1] =~ s/[,;] or array of one$//r if $type =~ /^as `(\w+)`$/;
    if ($type =~ s/[,;] or array of one$//) { $excepted{'array of one'}{$name} = 1; return 'array of one of ' . described($name, $type) }
    if ($type =~ s/^object, or string of JSON.*/string/ || $type =~ s/^(array of strings) or of .*/$1/) { $excepted{JSON}{$name} = 1 }
    $type = $IN_TABLE{auth_methods}[1] if $type eq 'array of methods';
    if ($type eq 'object') { $excepted{map}{$name} = 1; return 'map' }
    return "integer $1" if $type =~ /^number, .*?(\d+ to \d+)$/;
    return 'array of string: ' . among($1) if $type =~ /^array of (`.*)/;
    return 'string: ' . among($type) if $type =~ /^`/;
    if ($name eq 'algorithms') { $excepted{'by its meaning'}{$name} = 1; return 'array of string: ' . join ' ', sort $meaning =~ /\b([A-Z]{2}\d{3}|EdDSA)\b/g }
    if ($meaning && $meaning =~ /the empty string/) { $excepted{'by its meaning'}{$name} = 1; return 'string or empty' }
    if ($type =~ s/^array of (?:strings, .* or one|addresses .*)$/array of strings/) { $excepted{'by its meaning'}{$name} = 1 }
    return 'array of string' if $type eq 'array of strings';
    return $type =~ /^string\b/ ? 'string' : $type;
}
# A default that is a value; what is told in words, or is that of another option, has none in the schema.
sub defaulted {
    my ($text) = @_;
    return 'none' if $text !~ /^`([^`]*)`$/ || $IN_TABLE{$1};
    my $value = $1;
    # In docs/kong.md lists are YAML.
    return $value =~ /^(?:\d+|true|false|\[.*\])$/ ? $value =~ s/([\[ ])(\w+)(?=[\],])/$1"$2"/gr =~ s/, /,/gr : "\"$value\"";
}

# errors(CONFIG...): those of each, with the tests' issuer besides
sub errors {
    my @instances = map { keybound(%$_) } @_;
    my $errors = kong_errors({ services => [map { { name => "s$_", url => 'http://upstream', plugins => [$instances[$_]] } } 0 .. $#instances] }) // {};
    return map { my $one = $errors->{services}[$_]; $one ? $one->{plugins}[0] : undef } 0 .. $#instances;
}
# accepts(CONFIG...)
sub accepts {
    my @errors = errors(@_);
    is(defined $errors[$_] ? json($errors[$_]) : 'accepted', 'accepted', json($_[$_])) for 0 .. $#_;
}
# refuses(FIELD, ERROR, WRONG, RIGHT...): ERROR stands at FIELD of the wrong one and nowhere else; the right ones are accepted
sub refuses {
    my ($field, $error, $wrong, @right) = @_;
    my ($got, @none) = errors($wrong, @right);
    my $at = $got && ref $got->{config} eq 'HASH' && keys %$got == 1 && join(' ', keys %{ $got->{config} }) eq $field ? $got->{config}{$field} : undef;
    my $name = "$field: " . json($wrong);
    ref $error eq 'Regexp' && !ref $at ? like($at // json($got // {}), qr/^$error/, $name) : is(json($got // {}), json({ config => { $field => $error } }), $name);
    is(defined $none[$_] ? json($none[$_]) : 'accepted', 'accepted', 'its twin: ' . json($right[$_])) for 0 .. $#right;
}

our $ENTITY = '3b0c7b5e-6e0c-4c52-9f43-6f3f1c3a9d10';
our $SECRET = 'x' x 32;
our %client = (client_id => ['gateway'], client_secret => ['secret']);

run_tests();

__DATA__

=== TEST 1: the fields before shared_dict are the engine's options, no more and no less
--- run
my ($engine) = parts();
is(join(' ', sort map { $_->[0] } @$engine), join(' ', sort map { $_->[0] } @TABLE), 'names');
cmp_ok(scalar @TABLE, '>', 60, 'the table was read');
--- no_error_log
[error]

=== TEST 2: each has the type, range, values and default of the table; the exceptions are known by name
--- run
my ($engine) = parts();
for (@$engine) {
    my ($name, $field) = @$_;
    my (undef, $type, $default, @more) = @{ $IN_TABLE{$name} // [] };
    my $meaning = $more[-1];
    my $required = $default eq 'required' ? 'required' : 'optional';
    if ($required eq 'required' && !$field->{required}) { $excepted{'required by the engine'}{$name} = 1; $required = 'optional' }
    is(join(' = ', describe($field), default($field), $field->{required} ? 'required' : 'optional'), join(' = ', described($name, $type, $meaning), defaulted($default), $required), $name);
}
is(join(' ', sort keys %{ $excepted{$_} }), $EXCEPTIONS{$_}, "exceptions: $_") for sort keys %EXCEPTIONS;
is(join(' ', sort keys %excepted), join(' ', sort keys %EXCEPTIONS), 'and no others');
--- no_error_log
[error]

=== TEST 3: every option of the plugin itself is documented, with its type and default
--- run
my (undef, $own) = parts();
my %documented = map { $_->[0] => $_ } rows($OWN);
my $all = read_file("$ROOT/docs/kong.md");
for (@$own) {
    my ($name, $field) = @$_;
    if ($name =~ /^client_cert_header_name$|^client_\w+_header_name$/) {
        like($all, qr/^\| `$name` \| `$field->{default}` \|/m, $name);
        next;
    }
    my (undef, $type, $default) = @{ $documented{$name} // [] };
    is(describe($field) . ' = ' . default($field), ($type eq 'record' ? 'record' : described($name, $type, '')) . ' = ' . defaulted($default), $name);
}
my %fields = map { @$_ } @$own;
my @members = map { keys %$_ } @{ $fields{redis}{fields} };
is(join(' ', sort grep { $_ ne 'redis' } $documented{redis}[3] =~ /`(\w+)`/g), join(' ', sort @members), 'the members of redis');
is(join(' ', sort grep { !$fields{$_} } keys %documented), '', 'and nothing that there is not');
--- no_error_log
[error]

=== TEST 4: secrets may be references and are encrypted; what may be a reference is documented
--- run
my (%referenceable, %encrypted);
sub walk {
    my ($name, $field) = @_;
    $referenceable{$name} = 1 if $field->{referenceable};
    $encrypted{$name} = 1 if $field->{encrypted};
    walk($name, $_) for grep { defined } @$field{qw(elements)};
    for my $record (grep { $_->{fields} } $field, $field->{values} // {}) {
        for (@{ $record->{fields} }) { my ($member) = keys %$_; walk("$name.$member", $_->{$member}) }
    }
}
walk(@$_) for fields();
is(join(' ', sort keys %encrypted), join(' ', sort qw(client_id client_secret client_jwk store_secret introspection_post_args_values introspection_headers_values
    session_secret session_previous_secrets dpop_nonce_secret dpop_nonce_previous_secrets authorization_query_args_values token_post_args_values upstream_client_credentials_args_values
    redis.password client_certificates.private_key)), 'encrypted');
is(join(' ', grep { !$referenceable{$_} } sort keys %encrypted), '', 'and all of them may be references');
my ($documented) = read_file("$ROOT/docs/kong.md") =~ /^Referenceable \(`\{vault:.*?\):(.*?); and/ms;
is(join(' ', sort grep { !/^client_certificates\./ } keys %referenceable), join(' ', sort $documented =~ /`([\w.]+)`/g), 'referenceable');
--- no_error_log
[error]

=== TEST 5: tokens: what is missing, unknown, of another type, out of range, or not to be had
--- run
refuses(issuer => 'required field missing', { issuer => undef }, {});
refuses(audience_required => qr/required: without it a token for another service/, { audience_required => $_ }, { audience_required => undef, insecure_any_audience => $TRUE }) for undef, [];
refuses(scope_required => 'unknown field', { scope_required => ['a'] }, { scopes_required => ['a'] });
refuses(proof_of_possession_mtls => 'expected one of: strict, optional, off', { proof_of_possession_mtls => 'on' }, { proof_of_possession_mtls => 'optional' });
refuses(leeway => 'value should be between 0 and 60', { leeway => $_->[0] }, { leeway => $_->[1] }) for [61, 60], [-1, 0];
refuses(leeway => 'expected an integer', { leeway => 1.5 }, { leeway => 1 });
refuses(timeout => 'value should be between 1 and 60000', { timeout => 0 }, { timeout => 1 });
refuses(issuer => qr/must be an https URL without query: its metadata is needed/, { issuer => 'http://as.test', jwks => undef }, { issuer => $_->[0], jwks => $_->[1] })
    for ['https://as.test', undef], ['http://as.test', json(Keybound::jwks())];
refuses(issuer => 'is the issuer identifier, not the URL of its metadata', { issuer => 'https://as.test/.well-known/openid-configuration' }, { issuer => 'https://as.test/well-known' });
refuses(auth_methods => ['expected one of: session, bearer, introspection, refresh_token, password, client_credentials, authorization_code'], { auth_methods => [$_] },
    { auth_methods => ['bearer'] }) for qw(userinfo kong_oauth2);
refuses(client_id => qr/required for introspection/, { auth_methods => ['introspection'] }, { auth_methods => ['introspection'], %client });
refuses(auth_methods => qr/$_ is not compatible with proof of possession: /, { %client, auth_methods => [$_] }, { %client, auth_methods => [$_], proof_of_possession_auth_methods_validation => $FALSE },
    { %client, auth_methods => [$_], proof_of_possession_mtls => 'off' }) for qw(refresh_token password client_credentials);
refuses(algorithms => ['expected one of: ' . join(', ', map { ("${_}256", "${_}384", "${_}512") } qw(RS PS ES)) . ', EdDSA'], { algorithms => ['HS256'] }, { algorithms => ['RS256'] });
refuses(introspection_cache_ttl => qr/has no effect: nothing is introspected/, { introspection_cache_ttl => 10 }, { introspection_cache_ttl => 10, %client });
--- no_error_log
[error]

=== TEST 6: the gateway as a client: one, which can prove who it is
--- run
my %tls = (client_id => ['gateway'], client_auth => ['tls_client_auth']);
refuses(tls_client_auth_cert_id => qr/required by tls_client_auth/, { %tls }, { %tls, tls_client_auth_cert_id => $ENTITY });
refuses(tls_client_auth_cert_id => qr/required by self_signed_tls_client_auth/, { %tls, client_auth => ['self_signed_tls_client_auth'] },
    { %tls, client_auth => ['self_signed_tls_client_auth'], introspection_endpoint_cert_id => $ENTITY, tls_client_auth_cert_id => $ENTITY });
my %inline = (client_certificates => { gateway => { certificate => 'a', private_key => 'b' } });
refuses(tls_client_auth_cert_id => qr/must be a name in client_certificates/, { %tls, %inline, tls_client_auth_cert_id => 'gatewax' }, { %tls, %inline, tls_client_auth_cert_id => 'gateway' });
refuses(tls_client_auth_cert_id => qr/must be a name in client_certificates/, { %tls, tls_client_auth_cert_id => substr $ENTITY, 1 }, { %tls, tls_client_auth_cert_id => uc $ENTITY });
refuses(client_certificates => { private_key => 'required field missing' }, { %tls, tls_client_auth_cert_id => 'gateway', client_certificates => { gateway => { certificate => 'a' } } },
    { %tls, %inline, tls_client_auth_cert_id => 'gateway' });
refuses($_ => 'length must be at most 1', { %client, $_ => [$client{$_}[0] // 'none', 'other'] }, { %client }) for qw(client_id client_secret);
refuses(client_auth => 'length must be at most 1', { %client, client_auth => ['client_secret_basic', 'client_secret_post'] }, { %client, client_auth => ['client_secret_post'] });
refuses(client_auth => qr/required: .* a client that proves nothing is none/, { client_id => ['gateway'] }, { client_id => ['gateway'], client_secret => ['secret'] });
refuses(introspection_endpoint => qr/must be an https URL/, { %client, introspection_endpoint => 'http://as.test/i' }, { %client, introspection_endpoint => 'https://as.test/i' });
refuses("introspection_${_}_values" => "must have one value for each entry of introspection_${_}_names", { %client, "introspection_${_}_names" => ['a'] },
    { %client, "introspection_${_}_names" => ['a'], "introspection_${_}_values" => ['b'] }) for qw(headers post_args);
--- no_error_log
[error]

=== TEST 7: headers: one value for each, one meaning for each, and none that is Kong's own
--- run
my %two = (upstream_headers_claims => ['sub', 'client_id']);
refuses("${_}_headers_names" => "must have one name for each entry of ${_}_headers_claims", { "${_}_headers_claims" => ['sub', 'a'], "${_}_headers_names" => ['X-A'] },
    { "${_}_headers_claims" => ['sub', 'a'], "${_}_headers_names" => ['X-A', 'X-B'] }) for qw(upstream downstream);
refuses("${_}_headers_names" => "must have one name for each entry of ${_}_headers_claims", { "${_}_headers_claims" => ['sub'] }, {}) for qw(upstream downstream);
refuses(upstream_headers_names => 'x-a occurs twice', { %two, upstream_headers_names => ['X-A', 'x-a'] }, { %two, upstream_headers_names => ['X-A', 'x-ab'] });
refuses(upstream_headers_names => qr/$_:? /i, { %two, upstream_headers_names => ['X-A', $_] }, { %two, upstream_headers_names => ['X-A', "$_-2"] })
    for qw(X-Consumer-ID X-Consumer-Custom-ID X-Consumer-Username x-credential-identifier X-Anonymous-Consumer X-Forwarded-For X-Forwarded-Proto X-Real-IP Via Proxy Proxy-Authorization X-Kong-Request-Id Host Content-Length);
accepts({ downstream_headers_claims => ['sub'], downstream_headers_names => ['X-Consumer-ID'] });
refuses(upstream_headers_names => [ undef, qq(bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-') ], { %two, upstream_headers_names => ['X-A', 'a b'] },
    { %two, upstream_headers_names => ['X-A', 'a-b'] });
refuses(upstream_headers_names => 'a header name is made of letters, digits and hyphens', { %two, upstream_headers_names => ['X-A', 'X_B'] }, { %two, upstream_headers_names => ['X-A', 'X-B'] });
--- no_error_log
[error]

=== TEST 8: headers of the certificate collide with no other, where they are sent at all
--- run
my %inject = (inject_client_cert_details => $TRUE);
my %same = (client_cert_header_name => 'X-A', client_serial_header_name => 'x-a');
refuses(inject_client_cert_details => qr/x-a occurs twice/i, { %inject, %same }, $_) for { %same }, { %inject, %same, client_serial_header_name => 'X-B' };
my %named = (upstream_headers_claims => ['sub'], upstream_headers_names => ['X-Client-Cert']);
refuses(inject_client_cert_details => qr/X-Client-Cert occurs twice/i, { %inject, %named }, $_) for { %named }, { %inject, %named, client_cert_header_name => 'X-Other' };
refuses(client_cert_thumbprint_header_name => 'X-Consumer-ID: Kong itself sets this header', { %inject, client_cert_thumbprint_header_name => 'X-Consumer-ID' }, { client_cert_thumbprint_header_name => 'X-Consumer-ID' });
refuses(inject_client_cert_details => qr/needs proof_of_possession_mtls strict or optional/, { %inject, proof_of_possession_mtls => 'off' }, $_)
    for { proof_of_possession_mtls => 'off' }, { %inject, proof_of_possession_mtls => 'optional' };
refuses(client_cert_header_name => qr/bad header name/, { %inject, client_cert_header_name => 'X A' }, { %inject, client_cert_header_name => 'X-A' });
--- no_error_log
[error]

=== TEST 9: options of the plugin that need another one, or exclude it
--- run
refuses(consumer_optional => 'has no effect without consumer_claim', { consumer_optional => $TRUE }, { consumer_optional => $TRUE, consumer_claim => ['sub'] });
refuses(anonymous_on_failed_binding => 'has no effect without anonymous', { anonymous_on_failed_binding => $TRUE }, { anonymous_on_failed_binding => $TRUE, anonymous => 'guest' });
refuses(consumer_by => ['expected one of: id, username, custom_id'], { consumer_by => ['name'] }, { consumer_by => ['id'] });
refuses(certificate_source => 'expected one of: ssl, variable', { certificate_source => 'header' }, { certificate_source => 'variable' });
my %redis = (redis => { host => 'redis.test' }, store_secret => $SECRET);
refuses(redis => qr/contradicts shared_dict/, { %redis, shared_dict => 'keybound' }, $_) for { %redis }, { store_secret => $SECRET, shared_dict => 'keybound' };
refuses(redis => 'host: required, or unix', { %redis, redis => { port => 6379 } }, { %redis, redis => $_ }) for { port => 6379, host => 'redis.test' }, { unix => '/redis.sock' };
refuses(redis => qr/server_name: needs ssl/, { %redis, redis => { host => 'a', server_name => 'a' } }, { %redis, redis => { host => 'a', server_name => 'a', ssl => $TRUE } });
refuses(redis => { $_->[0] => $_->[2] }, { %redis, redis => { host => 'a', $_->[0] => $_->[1] } }, { %redis, redis => { host => 'a', $_->[3] => $_->[4] } })
    for [host => 'a:1', 'must not have a port', host => 'a'], [port => 65536, 'value should be between 0 and 65535', port => 65535], [passwort => 'a', 'unknown field', password => 'a'];
refuses(store_secret => qr/required with redis/, { redis => $redis{redis} }, { %redis });
refuses(store_secret => 'has no effect without shared_dict or redis', { store_secret => $SECRET }, { store_secret => $SECRET, shared_dict => 'keybound' });
refuses(store_secret => 'must have at least 32 characters', { %redis, store_secret => substr $SECRET, 1 }, { %redis });
refuses(metrics_dict => qr/must be another one than shared_dict/, { shared_dict => 'keybound', metrics_dict => 'keybound' }, { shared_dict => 'keybound', metrics_dict => 'keybound_metrics' });
is(json(kong_errors({ consumers => [{ username => 'c' }], plugins => [{ %{ keybound() }, consumer => 'c' }] })), '{"plugins":[{"consumer":"value must be null"}]}', 'no instance for one consumer');
--- no_error_log
[error]

=== TEST 10: strings of JSON, where the engine has objects or arrays
--- run
refuses(issuers_allowed => qr/issuers_allowed\[1\]: not valid JSON/, { issuers_allowed => ['https://b.test', '{"issuer":"https://c.test"'] }, { issuers_allowed => ['https://b.test', '{"issuer":"https://c.test"}'] });
refuses(issuers_allowed => qr/issuers_allowed\[0\]\.issuer: is the issuer identifier/, { issuers_allowed => ['{"issuer":"https://c.test/.well-known/x"}'] }, { issuers_allowed => ['{"issuer":"https://c.test/x"}'] });
like(json((errors({ issuers_allowed => ['{"issuer":"https://c.test","isuer":1}'] }))[0]), qr/issuers_allowed\[0\]\.isuer: unknown option/, 'a member of such an object that there is not');
for my $name (qw(upstream_headers downstream_headers)) {
    refuses("${name}_claims" => qr/${name}_claims\[1\]: not valid JSON/, { "${name}_claims" => ['sub', '["a","b"'], "${name}_names" => ['X-A', 'X-B'] }, { "${name}_claims" => ['sub', '["a","b"]'], "${name}_names" => ['X-A', 'X-B'] });
}
refuses($_ => qr/$_\[0\]: not valid JSON/, { $_ => ['["Domain Admins"'] }, { $_ => ['["Domain Admins"]'] }) for qw(audience_required groups_required roles_required);
refuses(scopes_required => qr/scopes_required\[0\]: not valid JSON/, { scopes_required => ['["read"'] }, { scopes_required => ['["read"]'] });
refuses($_ => qr/must be an array/, { $_ => ['[1]'] }, { $_ => ['["1"]'] }) for qw(audience_required scopes_required);
my $jwks = json(Keybound::jwks());
refuses(jwks => qr/the JWK set is refused/, { jwks => substr $jwks, 0, -1 }, { jwks => $jwks });
refuses(client_jwk => qr/not valid JSON/, { client_id => ['gateway'], client_jwk => ['{"kty":'] }, { client_id => ['gateway'], client_jwk => [read_file("$PKI/gateway-key-ec.key")] });
--- no_error_log
[error]

=== TEST 11: what a reference to a vault stands for is not known when it is written; text that is none is held to the rules
--- run
my ($good, $bad) = ('{vault://env/kb-x}', '{vault://env/kb-x');
my %redis = (redis => { host => 'a' }, store_secret => $good);
refuses(issuer => qr/must be an https URL/, { jwks => undef, issuer => $bad }, { jwks => undef, issuer => $good });
refuses(client_jwk => qr/not valid JSON/, { client_id => ['gateway'], client_jwk => [$bad] }, { client_id => ['gateway'], client_jwk => [$good] });
refuses(store_secret => qr/must have at least 32 characters/, { shared_dict => 'keybound', store_secret => $bad }, { shared_dict => 'keybound', store_secret => $good });
accepts({ redis => { host => 'a', password => $good }, store_secret => $good }, { client_id => [$good], client_secret => [$good] },
    { client_id => ['gateway'], client_auth => ['tls_client_auth'], tls_client_auth_cert_id => 'a', client_certificates => { a => { certificate => $good, private_key => $good } } });
refuses(audience_required => qr/required: without it/, { %client, client_secret => [$good], audience_required => undef }, { %client, client_secret => [$good] });
refuses($_->[0] => 'cannot be a reference to a vault', { $_->[0] => $_->[1] }, { $_->[0] => $_->[2] }) for [jwks => $good, undef], [realm => $good, $bad], [anonymous => $good, $bad];
refuses($_->[0] => "$_->[1]: cannot be a reference to a vault", { %redis, $_->[0] => $_->[2] }, { %redis, $_->[0] => $_->[3] }) for [claims_required => 1, [$good], [$bad]],
    [audience_required => 2, ['a', $good], ['a', $bad]], [redis => 'prefix', { host => 'a', prefix => $good }, { host => 'a', prefix => $bad }];
my %injected = (inject_client_cert_details => $TRUE, shared_dict => 'keybound', store_secret => $good, upstream_headers_names => ['X-A']);
accepts({ %injected, upstream_headers_claims => ['sub'] }, { %injected });
--- no_error_log
[error]

=== TEST 12: null, an empty list and an empty record are nothing
--- run
my ($engine, $own) = parts();
my @nothing;
for (grep { !$_->[1]{required} } @$engine, @$own) {
    my ($name, $field) = @$_;
    # What else there has to be where this is nothing.
    my %rest = $name eq 'audience_required' ? (insecure_any_audience => $TRUE) : $name eq 'jwks' ? (jwks_uri => 'https://as.test/jwks') : ();
    push @nothing, { %rest, $name => undef }, $field->{type} eq 'array' ? { %rest, $name => [] } : (), $field->{type} =~ /^(?:map|record)$/ ? { %rest, $name => {} } : ();
}
accepts(@nothing);
accepts({ redis => { map { my ($member) = keys %$_; $member => undef } @{ { map { @$_ } @$own }->{redis}{fields} } } });
refuses(redis => 'host: required, or unix', { redis => { port => 6379 } });
--- no_error_log
[error]

=== TEST 13: a configuration as the Admin API shows it, with all defaults written out, is the same as without
--- watch
--- run
my @written = map { keybound(%$_)->{config} } {}, { %client }, { shared_dict => 'keybound', upstream_headers_claims => ['sub'], upstream_headers_names => ['X-A'], inject_client_cert_details => $TRUE },
    { client_id => ['gateway'], client_auth => ['tls_client_auth'], tls_client_auth_cert_id => 'a', redis => { host => 'a' }, store_secret => $SECRET,
        client_certificates => { a => { certificate => "$PKI/gateway.crt", private_key => "$PKI/gateway.key" } } };
for my $config (@written) {
    my $shown = stored($config);
    cmp_ok(scalar(grep { defined } values %$shown), '>', 40, 'it has the defaults');
    is(json(kong_errors({ plugins => [{ name => 'keybound', config => $shown }] }) // {}), '{}', 'it moves back in');
    is(json(stored($shown)), json($shown), 'as what it was');
    my $before = engines()->{made};
    is(kong_reload({ services => [map { { name => "s$_->[0]", url => 'http://upstream', routes => [{ name => "r$_->[0]", paths => ["/$_->[0]"] }], plugins => [{ name => 'keybound', config => $_->[1] }] } }
        ['a', $config], ['b', $shown]] }), undef, 'both');
    is(engines()->{made} - $before, 1, 'one engine for both');
}
--- no_error_log
[error]

=== TEST 14: logins and sessions: what they need, and what they need no longer
--- run
my %session = (%client, auth_methods => ['session', 'bearer'], session_secret => $SECRET);
refuses(auth_methods => qr/session needs another method/, { %session, auth_methods => ['session'], shared_dict => 'keybound' }, { %session, shared_dict => 'keybound' });
my $store = 'required for logins, sessions and proofs, or redis: what all workers must know is kept there';
refuses(shared_dict => $store, { %session }, { %session, shared_dict => 'keybound' }, { %session, shared_dict => 'keybound', store_secret => $SECRET },
    { %session, redis => { host => 'redis' }, store_secret => $SECRET });
refuses(store_secret => qr/required with redis/, { %session, redis => { host => 'redis' } }, { %session, redis => { host => 'redis' }, store_secret => $SECRET });
$session{shared_dict} = 'keybound';
refuses(session_secret => qr/required by session/, { %session, session_secret => undef }, { %session }, { %session, session_secret => '{vault://env/session-secret}' });
refuses(session_secret => qr/must have at least 32 characters/, { %session, session_secret => 'short' }, { %session });
refuses(session_previous_secrets => qr/must have at least 32 characters/, { %session, session_previous_secrets => ['short'] }, { %session, session_previous_secrets => [$SECRET, '{vault://env/old}'] });
refuses(session_storage => 'expected one of: cookie, store', { %session, session_storage => 'redis' }, { %session, session_storage => 'store' });
refuses(session_cookie_same_site => 'expected one of: Strict, Lax, None', { %session, session_cookie_same_site => 'Default' }, { %session, session_cookie_same_site => 'Strict' });
refuses(session_idling_timeout => 'value should be between 0 and 31536000', { %session, session_idling_timeout => -1 }, { %session, session_idling_timeout => 0 });
refuses(report_only => qr/contradicts auth_methods/, { %session, report_only => $TRUE }, { %session });
refuses(disable_session => qr/^authorization_code needs its session/, { %session, disable_session => ['authorization_code'] }, { %session, disable_session => ['bearer'] });
refuses($_ => qr/has no effect without session in auth_methods/, { %session, auth_methods => ['bearer'], session_secret => undef, $_ => $TRUE }, { %session, $_ => $TRUE }) for qw(session_bind_certificate);
my %code = (%session, auth_methods => ['authorization_code', 'session'], redirect_uri => ['https://api.test/callback'], session_bind_certificate => $TRUE);
refuses(redirect_uri => qr/required by authorization_code/, { %code, redirect_uri => undef }, { %code });
refuses(redirect_uri => 'length must be at most 1', { %code, redirect_uri => ['https://api.test/a', 'https://api.test/b'] }, { %code });
refuses(redirect_uri => qr/must be an https URL/, { %code, redirect_uri => ['http://api.test/callback'] }, { %code });
refuses(session_bind_certificate => qr/must be true for authorization_code/, { %code, session_bind_certificate => undef },
    { %code, session_bind_certificate => undef, proof_of_possession_mtls => 'off' });
refuses(scopes => qr/must hold openid/, { %code, scopes => ['read'] }, { %code, scopes => ['read', 'openid'] });
refuses("$_->[0]_names" => qr/\w+ is set by keybound itself/, { %code, @{ $_->[1] }, "$_->[0]_names" => [$_->[2]], "$_->[0]_values" => ['a'] }, { %code, @{ $_->[1] }, "$_->[0]_names" => ['resource'], "$_->[0]_values" => ['{vault://env/a}'] })
    for ['authorization_query_args', [], 'state'], ['token_post_args', [], 'code'], ['upstream_client_credentials_args', [upstream_client_credentials => $TRUE], 'grant_type'];
refuses(logout_methods => ['expected one of: GET, POST, DELETE'], { %code, logout_uri_suffix => '/logout', logout_methods => ['PUT'] }, { %code, logout_uri_suffix => '/logout', logout_methods => ['GET'] });
refuses(logout_redirect_uri => qr/has no effect without logout_uri_suffix/, { %code, logout_redirect_uri => ['https://api.test/'] }, { %code, logout_uri_suffix => '/logout', logout_redirect_uri => ['https://api.test/'] });
my %password = (%client, auth_methods => ['password'], proof_of_possession_mtls => 'off');
refuses(password_param_type => ['expected one of: header, body'], { %password, password_param_type => ['query'] }, { %password, password_param_type => ['body'] });
--- no_error_log
[error]
