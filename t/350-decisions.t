# The same decisions by every host: the nginx module, the Lua adapter and the command line, each asked for the rows of tests/decisions.json.
#
# A row has an engine, a token, a certificate, and the answer: status, decision and reason. `by` names who is asked where not everybody can
# be: `requests` for what is not told by one token, `command line` for certificates that nginx refuses by itself. Of tokens: `written` puts the
# parts together in another way; {"now": N} is a time, N seconds from now; ${NAME} the thumbprint of a certificate, ${key NAME} that of a key, in
# `authorization` ${NAME} is a token.
#
# `proof` is made for each that is asked, with the options of t/lib/Dpop.pm: `by` names the key, default phone; `token` the token that it is for, default
# the row's; in `uri` ${path} is the path of the request. "nonce": "theirs" is what a first try was answered with; {"text": ...} is no proof at all, and
# an array is several headers. With it the token is sent as DPoP, unless `scheme` says otherwise. `method` is that of the request, `url` of the command line
# the whole URL. `again`: the answer to the same request, the second time.
use Cwd ();
my ($target, $module, $library);
BEGIN {
    $target = $ENV{CARGO_TARGET_DIR} // Cwd::abs_path(__FILE__ =~ s{[^/]*\z}{../target}r);
    $module = $ENV{KEYBOUND_MODULE} // "$target/nginx/ngx_http_keybound_module.so";
    $library = $ENV{KEYBOUND_LIB} // "$target/release";
    # Both in one nginx: no row can tell them apart but by what they decide.
    $ENV{TEST_NGINX_LOAD_MODULES} = join ' ', (map { "/usr/lib/nginx/modules/$_" } qw(ndk_http_module.so ngx_http_lua_module.so)), $module;
}
use Dpop;
use Encode ();
use Keybound;
use Test::Nginx::Socket 'no_plan';

-r $module or bail_out("$module is not there: run make nginx-module");
# The module asks for the library by its soname, where the system's loader looks.
mkdir "$RUN/lib";
symlink "$library/libkeybound.so", "$RUN/lib/libkeybound.so.1" or die "libkeybound.so.1: $!\n";
$ENV{LD_LIBRARY_PATH} = join ':', "$RUN/lib", grep { length } $ENV{LD_LIBRARY_PATH} // ();

our $TABLE = json(read_file("$ROOT/tests/decisions.json"));
our @ROWS = @{ $TABLE->{rows} };
our @HOSTS = qw(module lua);

# The certificates that pki.sh does not make.
self_signed('large', '/CN=large', names => 400);
self_signed('too-large', '/CN=too large', names => 600);
dated('to-come', 86400, 2 * 86400);

# said(VALUE): a value of the table, with what stands in it for something else
sub said {
    my ($value) = @_;
    # A number stays one.
    return $value =~ s/\$\{(key )?([^}]+)\}/$1 ? jkt($2) : thumbprint($2)/ger if !ref $value && ($value // '') =~ /\$\{/;
    return [map { said($_) } @$value] if ref $value eq 'ARRAY';
    return $value if ref $value ne 'HASH';
    return time + $value->{now} if exists $value->{now};
    return $value->{of} x $value->{times} if exists $value->{times};
    # Keys of other issuers, too, have the name that tokens give here.
    return { %{ Keybound::ec_jwk("as-$value->{jwk}") }, kid => 'es' } if exists $value->{jwk} && !ref $value->{jwk};
    return { map { $_ => said($value->{$_}) } keys %$value };
}

# made(TOKEN): the token, by its name or from what the table says of it
my %made;
sub made {
    my ($how) = @_;
    return $made{$how} //= made($TABLE->{tokens}{$how} // die "no token $how\n") unless ref $how;
    return Encode::encode('UTF-8', $how->{text}) if exists $how->{text};
    my %how = %$how;
    my $written = delete $how{written} // '{header}.{payload}.{signature}';
    my %part;
    @part{qw(header payload signature)} = split /\./, token(%{ said(\%how) });
    $part{'other signature'} = (split /\./, made('bound'))[2] if $written =~ /other/;
    return $written =~ s/\{([^}]+)\}/$part{$1} \/\/ die "no part $1\n"/ger;
}

# proofs(ROW, PATH, ASK): what goes into `DPoP` headers; ASK takes such a header and gives the nonce of the answer
sub proofs {
    my ($row, $path, $ask) = @_;
    my $how = $row->{proof} // return;
    return map { proofs({ %$row, proof => $_ }, $path, $ask) } @$how if ref $how eq 'ARRAY';
    return $how->{text} if exists $how->{text};
    my %how = (method => $row->{method} // 'GET', uri => 'https://api.test${path}', %$how);
    $how{uri} =~ s/\$\{path\}/$path/g;
    $how{token} = defined $how->{token} ? made($how->{token}) : $row->{bearer};
    my ($by, $nonce) = (delete $how{by} // 'phone', delete $how{nonce});
    # Another proof, since the first one may be used up.
    $how{nonce} = $ask->(proof($by, %how)) if defined $nonce;
    return proof($by, %how);
}
sub scheme { return $_[0]{scheme} // ($_[0]{proof} ? 'DPoP' : 'Bearer') }

# configuration(NAME): the file of an engine, the same one for all hosts
my %configurations;
sub configuration {
    my ($name) = @_;
    return $configurations{$name} //= do {
        my %members = (%Keybound::DEFAULTS, %{ said($TABLE->{engines}{$name}) });
        delete @members{ grep { !defined $members{$_} } keys %members };
        write_file("$RUN/decisions.$name.json", json(\%members));
    };
}

# by_request(HOST, ROW): the answer as in the table, the subject, and all else that the client sees
sub by_request {
    my ($host, $row) = @_;
    my @headers = map { 'Authorization: ' . s/\$\{([^}]+)\}/made($1)/ger } @{ $row->{authorization} // [scheme($row) . " $row->{bearer}"] };
    my $path = "/$host/$row->{engine}";
    my $ask = sub {
        call(cert => $row->{certificate} // '-', headers => [@headers, map { "DPoP: $_" } @_], path => join('?', $path, $row->{query} // ()),
            method => $row->{method});
    };
    my @proofs = proofs($row, $path, sub { scalar header($ask->(@_), 'DPoP-Nonce') });
    $ask->(@proofs) if $row->{again};
    log_mark();
    my $response = $ask->(@proofs);
    my ($decision, $reason, $subject) = map { scalar header($response, "X-$_") } qw(Decision Reason Subject);
    my @logged = map { /keybound: (refused|reported), reason=(\w+)(?:, status=(\d+))?, token=([0-9a-f]{8}|-), request_id=[0-9a-f]{32}/ ? [$1, $2, $3, $4] : () }
        split /\n/, log_since();
    my %seen = map { $_ => join '|', header($response, $_) } qw(WWW-Authenticate Content-Type Cache-Control Retry-After);
    # The nonces of two answers may be of two seconds.
    $seen{'DPoP-Nonce'} = header($response, 'DPoP-Nonce') ? 'one' : 'none';
    return { answer => join(' ', $response->{status} // "none ($response->{error})", $decision, $reason), subject => $subject, logged => \@logged,
        seen => { %seen, body => $response->{body} } };
}

# by_command(ROW): what the command line says
sub by_command {
    my ($row) = @_;
    my @words = ("$library/keybound", 'check', '--config', configuration($row->{engine}), '--token', '@' . write_file("$RUN/decisions.token", $row->{bearer}));
    push @words, '--cert', "$PKI/$row->{certificate}.crt" if defined $row->{certificate};
    my $path = "/command/$row->{engine}";
    # The client's, as --url is.
    my $url = $row->{url} // 'https://api.test' . ($TABLE->{engines}{ $row->{engine} }{public_path_prefix} // '') . $path;
    push @words, '--scheme', lc scheme($row), '--method', $row->{method} // 'GET', '--url', $url;
    my $ask = sub { command('', @words, map { ('--dpop', '@' . write_file("$RUN/decisions.proof", $_)) } @_) };
    my ($status, $out, $err) = $ask->(proofs($row, $path, sub { json(($ask->(@_))[1])->{dpop_nonce} }));
    my $said = eval { json($out) } or return { answer => "exit status $status: $err" };
    my $subject = $said->{claims_verified} ? $said->{claims}{sub} : undef;
    return { answer => "$said->{decision} $said->{reason}", status => $status, subject => $subject // '' };
}

# What the log has to say of an answer.
sub logs {
    my ($status, $decision, $reason, $token) = @_;
    return [] if $decision eq 'allow';
    return [[$decision eq 'deny' ? ('refused', $reason, $status) : ('reported', $reason, undef), $token]];
}

add_block_preprocessor(sub {
    my ($block) = @_;
    return unless defined $block->run && $block->run =~ /by_request/;
    my @names = sort keys %{ $TABLE->{engines} };
    my $locations = '';
    for my $name (@names) {
        my $file = configuration($name);
        $locations .= <<"EOC";
        location = /lua/$name {
            access_by_lua_block { engines["$name"]:access() }
            header_filter_by_lua_block {
                local told = ngx.ctx.keybound or {}
                ngx.header["X-Decision"] = told.reported and "report" or told.allowed and "allow" or "deny"
                ngx.header["X-Reason"] = told.reason
                ngx.header["X-Subject"] = told.claims and tostring(told.claims.sub) or nil
            }
            content_by_lua_block { ngx.say("passed") }
        }
        location = /module/$name {
            keybound on;
            keybound_config $file;
            add_header X-Decision \$keybound_decision always;
            add_header X-Reason \$keybound_reason always;
            add_header X-Subject \$keybound_subject always;
            content_by_lua_block { ngx.say("passed") }
        }
EOC
    }
    $block->set_value(engine => CORE::join "\n", 'engines = {}', map {
        my $store = $TABLE->{engines}{$_}{proof_of_possession_dpop} ? ', { store = "decisions" }' : '';
        qq(engines["$_"] = assert(require("resty.keybound").new(assert(io.open("$RUN/decisions.$_.json")):read("*a")$store)))
    } @names);
    $block->set_value(http_config => "lua_shared_dict decisions 1m;\nkeybound_zone decisions_module 1m;\n");
    $block->set_value(tls => "ssl_verify_client optional_no_ca;\nlarge_client_header_buffers 4 32k;\nlocation / { return 404; }\n$locations");
});

run_tests();

__DATA__

=== TEST 1: the table: each engine lets something pass and stops something, each token is used, and no reason is left out
--- run
my (%answers, %used, %reasons);
for my $row (@ROWS) {
    my ($status, $decision, $reason) = split ' ', $row->{answer};
    my $line = $row->{rule};
    ok($TABLE->{engines}{ $row->{engine} }, "$line: an engine that there is");
    is(scalar(grep { defined } @$row{qw(token authorization)}), 1, "$line: a token or headers");
    is($row->{by}, 'requests', "$line: only a gateway sees a request twice, and two headers") if $row->{again} || ref $row->{proof} eq 'ARRAY';
    is($row->{by}, 'command line', "$line: the servers have TLS") if $row->{url};
    like($row->{by} // 'all', qr/^(?:all|requests|command line)$/, "$line: by whom");
    is($row->{by}, 'requests', "$line: headers are for requests") if $row->{authorization};
    $answers{ $row->{engine} }{$decision}++;
    $reasons{$reason}++;
    $used{$_}++ for ref $row->{token} ? () : $row->{token} // (), map { /\$\{([^}]+)\}/g } @{ $row->{authorization} // [] };
    $used{ $row->{proof}{token} }++ if ref $row->{proof} eq 'HASH' && $row->{proof}{token};
}
is(CORE::join(' ', sort keys %used), CORE::join(' ', sort keys %{ $TABLE->{tokens} }), 'every token is used');
for my $name (sort keys %{ $TABLE->{engines} }) {
    ok($answers{$name}{allow}, "$name: something passes");
    ok($answers{$name}{deny} || $answers{$name}{report}, "$name: something does not");
}
my %rules;
$rules{ $_->{rule} }++ for @ROWS;
is(CORE::join('; ', grep { $rules{$_} > 1 } sort keys %rules), '', 'no two rows by the same name');
cmp_ok(scalar(grep { !$_->{by} } @ROWS), '>=', 60, 'rows for everybody');
# Not reached by a JWT, known keys and one request: what a host or a gateway finds, introspection, sessions, early data, a server that is not there.
my %elsewhere = map { $_ => 1 } qw(duplicate_header token_inactive early_data certificate_refused session_certificate_missing session_certificate_mismatch
    consumer_not_found);
my @left = grep { !$reasons{$_} && !$elsewhere{$_} } map { /^\| `(\w+)` \| (\d+) \|/ && ($2 < 90 || $2 >= 130) ? $1 : () } split /\n/, read_file("$ROOT/docs/reasons.md");
is("@left", '', 'no reason of tokens, requests, proofs and the binding is left out');

=== TEST 2: the module, the Lua adapter and the command line decide alike, and module and Lua say the same to client and log
--- run
my %asked;
for my $row (@ROWS) {
    my ($rule, $by) = ($row->{rule}, $row->{by} // 'all');
    my ($status, $decision, $reason) = split ' ', $row->{answer};
    my ($command, %by_host);
    # Made for the row, so that a slow machine does not make it older; one for all who are asked.
    %made = ();
    $row->{bearer} = made($row->{token}) if $row->{token};
    if ($by ne 'requests') {
        $command = by_command($row);
        is($command->{answer}, "$decision $reason", "$rule: command line");
        is($command->{status}, $decision eq 'allow' ? 0 : 1, "$rule: exit status");
        $asked{'command line'}++;
    }
    next if $by eq 'command line';
    for my $host (@HOSTS) {
        my $got = $by_host{$host} = by_request($host, $row);
        is($got->{answer}, $row->{answer}, "$rule: $host");
        is($got->{subject}, $command->{subject}, "$rule: $host: the subject") if $command;
        my $token = $got->{logged}[0] && $got->{logged}[0][3];
        is_deeply($got->{logged}, logs($status, $decision, $reason, $token), "$rule: $host: the log");
        $asked{$host}++;
    }
    is_deeply($by_host{module}{seen}, $by_host{lua}{seen}, "$rule: what the client sees");
    is_deeply($by_host{module}{logged}, $by_host{lua}{logged}, "$rule: what the log says, the token's hash too");
}
is($asked{'command line'}, scalar(grep { ($_->{by} // '') ne 'requests' } @ROWS), 'rows of the command line');
is($asked{$_}, scalar(grep { ($_->{by} // '') ne 'command line' } @ROWS), "rows of $_") for @HOSTS;
--- no_error_log
[error]
[crit]
[alert]
