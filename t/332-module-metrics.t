# keybound_metrics: an OpenMetrics page of what all workers counted, who have it in shared memory.
use Module;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);

add_block_preprocessor(sub {
    my ($block) = @_;
    engine_file('private', '');
    $block->set_value(http_config => "keybound_zone kb 1m;\nlog_format pids '\$pid';\n" . ($block->http_config // ''));
    $block->set_value(tls => "access_log \$RUN/pids.log pids;\n" . ($block->tls // ''));
    $block->set_value(config => "location = /metrics { keybound_metrics; }\nlocation = /private { keybound on; keybound_config \$KB/private.json; keybound_metrics; }\n" . ($block->config // ''));
});

# page(): { 'name{labels}' => value }, what is counted a second later; dies where the text is none of OpenMetrics
sub page {
    my $response = call(plain => 1, path => '/metrics');
    is(join(' ', $response->{status}, header($response, 'Content-Type')), '200 application/openmetrics-text; version=1.0.0; charset=utf-8', 'a page');
    my $text = $response->{body};
    $text =~ s/^# EOF\n\z//m or die "no # EOF at the end\n";
    my (%samples, %type);
    for (split /\n/, $text) {
        if (/^# TYPE (\w+) (counter|gauge|histogram)$/) { die "TYPE twice: $_\n" if $type{$1}; $type{$1} = $2; next }
        next if /^# (?:HELP|UNIT) \w+ ./;
        my ($name, $labels, $value) = /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\n"])*"(?:,(?=.)|(?=\})))+)\})? ([0-9.e+-]+)$/ or die "no sample: $_\n";
        my ($family) = grep { $type{$_} } $name, $name =~ s/_(?:total|bucket|count|sum)$//r or die "a sample of no family: $_\n";
        my $key = $name . '{' . ($labels // '') . '}';
        die "a sample twice: $_\n" if exists $samples{$key};
        $samples{$key} = $value;
    }
    return \%samples;
}

# of(PAGE, NAME, LABEL => VALUE...): the sum of the samples that have these labels
sub of {
    my ($page, $name, %labels) = @_;
    my $sum = 0;
    for my $key (grep { /^$name\{/ } keys %$page) {
        $sum += $page->{$key} unless grep { $key !~ /[{,]$_="\Q$labels{$_}\E"/ } keys %labels;
    }
    return $sum;
}

# What a page says in the end: it may be told a little later.
sub comes { my ($expected, $code) = @_; my $got; until_true(3, sub { $got = $code->(); $got eq $expected }); return $got }

run_tests();

__DATA__

=== TEST 1: decisions by reason, over both workers and however many requests
--- tls
location /report { keybound report; $PROXY; }
--- run
write_file("$RUN/pids.log", '');
kill USR1 => master();
pause(0.1);
is(json([ at_once(25, map { { cert => $_, token => 'bound' } } qw(client thief client thief)) ]), '[{"200":25},{"401":25},{"200":25},{"401":25}]', 'a hundred requests');
call(cert => 'client') for 1 .. 3;
call(cert => 'thief', token => 'bound', path => '/report') for 1 .. 2;
my %pids = map { $_ => 1 } split /\n/, read_file("$RUN/pids.log");
cmp_ok(scalar keys %pids, '>=', 2, 'both workers');
my $page;
is(comes('50 50 3 2', sub { $page = page(); join ' ', map { of($page, 'keybound_requests_total', @$_) } ['decision', 'allow', 'reason', 'allowed'],
    ['decision', 'deny', 'reason', 'certificate_mismatch'], ['decision', 'deny', 'reason', 'no_token'], ['decision', 'report', 'reason', 'certificate_mismatch'] }), '50 50 3 2', 'the page');
is(of($page, 'keybound_requests_total'), 105, 'and no more');
is(of($page, 'keybound_requests_total', issuer => 'https://as.test', decision => 'allow'), 50, 'by issuer');
--- no_error_log
[error]
[alert]

=== TEST 2: requests to the authorization server, by how they ended and how long they took
--- engine
kb: tls
down: keys { "issuer": "https://localhost:9" }
--- run
define(opaque => opaque(), down => { for => 'client', claims => { iss => 'https://localhost:9' } });
passes({ cert => 'client', token => 'opaque' }, 'one introspection');
refuses({ cert => 'client', token => 'down', path => '/down' }, '503 - keys_unavailable', 'one that is down');
my $page;
my $issuer = as_start()->{issuer};
is(comes('1 1', sub { $page = page(); join ' ', of($page, 'keybound_as_requests_total', issuer => $issuer, endpoint => 'introspection', outcome => 'ok'),
    of($page, 'keybound_as_request_duration_seconds_count', issuer => $issuer, endpoint => 'introspection') }), '1 1', 'the introspection');
cmp_ok(of($page, 'keybound_as_request_duration_seconds_sum', issuer => $issuer, endpoint => 'introspection'), '>', 0, 'took time');
is(of($page, 'keybound_as_requests_total', issuer => 'https://localhost:9', outcome => 'ok'), 0, 'the other one did not end well');
is(comes('1', sub { of(page(), 'keybound_as_requests_total', issuer => 'https://localhost:9', endpoint => 'metadata') }), 1, 'but is counted');
--- no_error_log
[alert]

=== TEST 3: counters outlive a reload and the death of a worker, and go up only
--- run
call(cert => 'client', token => 'bound') for 1 .. 10;
my $count = sub { return of(page(), 'keybound_requests_total', decision => 'allow') };
is(comes(10, $count), 10, 'before');
ok(hup(), 'reloaded');
call(cert => 'client', token => 'bound') for 1 .. 10;
is(comes(20, $count), 20, 'after a reload');
my @old = children();
kill KILL => @old;
ok(until_true(10, sub { my @now = children(); @now == 2 && !grep { my $pid = $_; grep { $_ == $pid } @old } @now }), 'two new workers');
call(cert => 'client', token => 'bound') for 1 .. 10;
my $after = comes(30, $count);
# What a worker had not told yet is gone with it.
cmp_ok($after, '<=', 30, 'after a crash');
cmp_ok($after, '>=', 20, 'of what was told nothing is lost');
--- error_log
exited on signal 9

=== TEST 4: engines in one zone are one page; each sample once
--- engine
kb:
second: { "issuer": "https://second.test" }
same: { "realm": "another" }
--- tokens eval
+{ second => { for => 'client', claims => { iss => 'https://second.test' } } }
--- run
call(cert => 'client', token => 'bound') for 1 .. 2;
call(cert => 'client', token => 'second', path => '/second') for 1 .. 3;
call(cert => 'client', token => 'bound', path => '/same') for 1 .. 4;
my $page;
is(comes('6 3', sub { $page = page(); join ' ', map { of($page, 'keybound_requests_total', issuer => "https://$_.test", decision => 'allow') } qw(as second) }), '6 3', 'by issuer');
--- no_error_log
[error]

=== TEST 5: the page is behind whatever guards its location; HEAD has no body
--- run
refuses({ plain => 1, path => '/private' }, '401 - no_token', 'without a token');
my $response = call(plain => 1, path => '/metrics', method => 'HEAD');
is(join(' ', $response->{status}, length $response->{body}), '200 0', 'HEAD');
like(call(plain => 1, path => '/metrics')->{body}, qr/# EOF\n\z/, 'GET');
--- no_error_log
[error]

=== TEST 6: no token, no claim and no certificate is on the page
--- run
call(cert => 'client', token => 'bound');
call(cert => 'thief', token => 'bound');
my $text = call(plain => 1, path => '/metrics')->{body};
like($text, qr/keybound_requests_total/, 'something is');
is(scalar(grep { index($text, $_) >= 0 } named_token('bound'), 'user-1', 'client-1', thumbprint('client'), thumbprint('thief')), 0, 'but none of these');
--- no_error_log
[error]
