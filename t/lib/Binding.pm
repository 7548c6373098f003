# Proof of possession by certificate: what comes of each kind of token and certificate in each mode. For the tests of every host.
package Binding;

use strict;
use warnings;

use Keybound;

our @EXPORT = qw(set_matrix);
sub import { no strict 'refs'; *{ caller . '::set_matrix' } = \&set_matrix }

# What comes of each token without a certificate, with the client's and with the thief's, in each mode.
my $MATRIX = <<'EOT';
strict    unbound    token_unbound             token_unbound             token_unbound
strict    bound      certificate_missing       -                         certificate_mismatch
strict    for:thief  certificate_missing       certificate_mismatch      -
strict    jkt        confirmation_unsupported  confirmation_unsupported  confirmation_unsupported
strict    both       confirmation_unsupported  confirmation_unsupported  confirmation_unsupported
strict    empty      confirmation_malformed    confirmation_malformed    confirmation_malformed
strict    null       confirmation_malformed    confirmation_malformed    confirmation_malformed
strict    padded     confirmation_malformed    confirmation_malformed    confirmation_malformed
strict    forged     certificate_missing       signature_invalid         certificate_mismatch
strict    expired    token_expired             token_expired             token_expired
strict    rs256      certificate_missing       -                         certificate_mismatch
optional  unbound    -                         -                         -
optional  bound      certificate_missing       -                         certificate_mismatch
optional  for:thief  certificate_missing       certificate_mismatch      -
optional  jkt        confirmation_unsupported  confirmation_unsupported  confirmation_unsupported
optional  both       confirmation_unsupported  confirmation_unsupported  confirmation_unsupported
optional  empty      confirmation_malformed    confirmation_malformed    confirmation_malformed
optional  null       confirmation_malformed    confirmation_malformed    confirmation_malformed
optional  padded     confirmation_malformed    confirmation_malformed    confirmation_malformed
optional  forged     certificate_missing       signature_invalid         certificate_mismatch
optional  expired    token_expired             token_expired             token_expired
off       unbound    -                         -                         -
off       bound      -                         -                         -
off       for:thief  -                         -                         -
off       jkt        -                         -                         -
off       both       -                         -                         -
off       empty      -                         -                         -
off       null       -                         -                         -
off       padded     -                         -                         -
off       forged     signature_invalid         signature_invalid         signature_invalid
off       expired    token_expired             token_expired             token_expired
EOT

# set_matrix(BLOCK, MODE, OPTION...): the tokens and the calls of that part of the table; OPTION: of each call
sub set_matrix {
    my ($block, $mode, @options) = @_;
    my $own = thumbprint('client');
    $block->set_value(tokens => {
        jkt => { claims => { cnf => { jkt => $own } } },
        both => { claims => { cnf => { 'x5t#S256' => $own, jkt => $own } } },
        empty => { claims => { cnf => {} } },
        null => { claims => { cnf => undef } },
        padded => { claims => { cnf => { 'x5t#S256' => "$own=" } } },
    });
    my $calls = '';
    for (grep { /^$mode / } split /\n/, $MATRIX) {
        my (undef, $token, @reasons) = split;
        for my $cert ('-', 'client', 'thief') {
            my $reason = shift @reasons;
            $calls .= "$cert $token @options -> " . ($reason eq '-' ? 200 : "401 invalid_token $reason") . "\n";
        }
    }
    $block->set_value(calls => $calls);
}

1;
