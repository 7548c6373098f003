# What the tests of DPoP proofs in OpenResty share: `use Proofs` behind `use Keybound`. All of Dpop.pm is there, too.
#
# In `engine` there is dpop(MORE, OPTS): an engine for https://api.test that wants a proof with each token, with more options (cjson.null
# takes one out), which remembers proofs in `lua_shared_dict proofs`; by default `kb` is one.
#
#   tries(EXPECTED, NAME, %call)   one request, and all that must come of it, as `check` says; the response
#   mine(%call)                    what `call` takes to send a token that is bound to the key `phone`, with a proof by it: see `sent`
package Proofs;

use strict;
use warnings;

use Dpop;
use Keybound;
use Test::Nginx::Util;

our @EXPORT = qw(tries mine);

sub import {
    my $to = caller;
    no strict 'refs';
    *{"${to}::$_"} = \&{$_} for @EXPORT, @Dpop::EXPORT;
}

my $LUA = <<'EOL';
function dpop(more, opts)
    local config = { proof_of_possession_dpop = "strict", public_origin = "https://api.test" }
    for name, value in pairs(more or {}) do
        config[name] = value
    end
    return engine(config, opts or { store = "proofs" })
end
EOL

add_block_preprocessor(sub {
    my ($block) = @_;
    # With Kong.pm only the functions: the configuration is its own.
    return if $INC{'Kong.pm'};
    $block->set_value(engine => $LUA . ($block->engine // 'kb = dpop()'));
    $block->set_value(http_config => "lua_shared_dict proofs 1m;\n" . ($block->http_config // ''));
    $block->set_value(schemes => 'DPoP') unless defined $block->schemes;
});

sub tries {
    my ($expected, $name, %call) = @_;
    log_mark();
    my $response = call(%call);
    check($response, $expected, $name);
    return $response;
}

sub mine { return sent('phone', 'jkt:phone', @_) }

1;
