# DPoP proofs (RFC 9449), made when a block runs. Keys have names and are made when they are first needed; the beginning of a
# name says of which kind: `rs256`, `ps256`, `es384` or `eddsa` (`ps256-phone`); any other is ES256.
#
#   jkt(KEY)                      the thumbprint of the key, for `cnf` of a token
#   public_jwk(KEY)               the public key, a hash
#   proof(KEY, OPTION => ...)     a proof, a text
#     method, uri                 of the request; default GET and https://api.test/
#     token                       the access token (not its name), for `ath`; without it there is none
#     nonce; jti                  default: none; a new one
#     iat                         seconds from now
#     typ, alg                    what the header says
#     claims, header              { NAME => VALUE }: any others; `\'text'` is JSON as it is
#     jwk                         { NAME => VALUE }: members of the key in the header
#     without                     [ NAME... ]: what is left out, of header, claims and key
#     payload, head               the JSON of the claims and of the header, as it is
#     signed_by                   another key that signs; the one in the header stays
#     signature                   sub that changes the octets of the signature in $_
#   sent(KEY, TOKEN, %call)       what `call` and the like take to send the named token with a proof for this request:
#                                 `authorization` and `headers`; `method`, `host`, `path` of the call are those of the proof;
#                                 proof: { OPTION => ... }, as above; scheme: default DPoP. KEY undef: no proof.
#                                 For example: call(sent('phone', 'mine', path => '/a', proof => { iat => -70 }))
#   ath(TOKEN)                    the hash of a token's text
#   client(%how)                  what nginx-test/as/dpop-client.mjs says of its calls to the TLS server at https://$TLS: a client made of the
#                                 library `with`. path; resource: the last part of its URL; the others are its options: client, alg, calls,
#                                 pause, method
package Dpop;

use strict;
use warnings;

use Crypt::Digest::SHA256 qw(sha256);
use Crypt::PK::ECC ();
use Crypt::PK::Ed25519 ();
use Crypt::PK::RSA ();
use Exporter qw(import);
use JSON::PP ();
use MIME::Base64 qw(encode_base64url);

our @EXPORT = qw(jkt public_jwk proof sent ath client);

my $JSON = JSON::PP->new->canonical->utf8;
my %KINDS = (
    ES256 => {
        make => sub { Crypt::PK::ECC->new->generate_key('secp256r1') },
        sign => sub { $_[0]->sign_message_rfc7518($_[1], 'SHA256') },
    },
    ES384 => {
        make => sub { Crypt::PK::ECC->new->generate_key('secp384r1') },
        sign => sub { $_[0]->sign_message_rfc7518($_[1], 'SHA384') },
    },
    RS256 => {
        make => sub { Crypt::PK::RSA->new->generate_key(256, 65537) },
        sign => sub { $_[0]->sign_message($_[1], 'SHA256', 'v1.5') },
    },
    PS256 => {
        make => sub { Crypt::PK::RSA->new->generate_key(256, 65537) },
        sign => sub { $_[0]->sign_message($_[1], 'SHA256', 'pss', 32) },
    },
    EdDSA => {
        make => sub { Crypt::PK::Ed25519->new->generate_key },
        sign => sub { $_[0]->sign_message($_[1]) },
    },
);
my (%keys, $proofs);

sub _key {
    my ($name) = @_;
    return $keys{$name} //= do {
        my ($alg) = grep { $name =~ /^$_/i } sort keys %KINDS;
        my $kind = $KINDS{ $alg //= 'ES256' };
        my $key = $kind->{make}->();
        my $jwk = $key->export_key_jwk('public', 1);
        # Only what a thumbprint is of: RFC 7638 §3.2, RFC 8037 §2.
        my %public = map { defined $jwk->{$_} ? ($_ => $jwk->{$_}) : () } qw(crv e kty n x y);
        { key => $key, alg => $alg, sign => $kind->{sign}, jwk => \%public };
    };
}

sub public_jwk { return { %{ _key($_[0])->{jwk} } } }

sub jkt { return encode_base64url(sha256($JSON->encode(_key($_[0])->{jwk}))) }

sub ath { return encode_base64url(sha256($_[0])) }

# As text, the members that are JSON already among the others.
sub _object {
    my ($members) = @_;
    my @out = map {
        my $value = $members->{$_};
        $JSON->allow_nonref->encode("$_") . ':' . (ref $value eq 'SCALAR' ? $$value : $JSON->allow_nonref->encode($value));
    } sort keys %$members;
    return '{' . join(',', @out) . '}';
}

sub proof {
    my ($name, %how) = @_;
    my $key = _key($name);
    my %without = map { $_ => 1 } @{ $how{without} // [] };
    my %jwk = (%{ $key->{jwk} }, %{ $how{jwk} // {} });
    delete @jwk{ keys %without };
    my %header = (
        typ => $how{typ} // 'dpop+jwt', alg => $how{alg} // $key->{alg}, jwk => \_object(\%jwk),
        %{ $how{header} // {} },
    );
    my %claims = (
        jti => $how{jti} // join('-', 'proof', $$, ++$proofs, time), htm => $how{method} // 'GET', htu => $how{uri} // 'https://api.test/',
        iat => time + ($how{iat} // 0),
        defined $how{token} ? (ath => ath($how{token})) : (),
        defined $how{nonce} ? (nonce => $how{nonce}) : (),
        %{ $how{claims} // {} },
    );
    delete @$_{ keys %without } for \%header, \%claims;
    my $signed = join '.', map { encode_base64url($_) } $how{head} // _object(\%header), $how{payload} // _object(\%claims);
    my $signer = defined $how{signed_by} ? _key($how{signed_by}) : $key;
    my $signature = $signer->{sign}->($signer->{key}, $signed);
    $how{signature}->() for $how{signature} ? $signature : ();
    return "$signed." . encode_base64url($signature);
}

sub sent {
    my ($name, $token, %call) = @_;
    my ($how, $scheme) = delete @call{qw(proof scheme)};
    my $text = Keybound::named_token($token);
    my $uri = 'https://' . ($call{host} // 'api.test') . ($call{path} // '/') =~ s/[?#].*//sr;
    my @proof = defined $name
        ? 'DPoP: ' . proof($name, method => $call{method} // 'GET', uri => $uri, token => $text, %{ $how // {} }) : ();
    return (%call, authorization => ($scheme // 'DPoP') . " $text", headers => [ @{ $call{headers} // [] }, @proof ]);
}

sub client {
    my (%how) = @_;
    my $resource = join '/', 'https://api.test', delete $how{resource} // ();
    my $url = "https://127.0.0.1:$Keybound::TLS_PORT" . (delete $how{path} // '/');
    my (undef, $node) = Keybound::command('', "$Keybound::ROOT/tools/node.sh");
    chomp $node;
    my @words = ('env', "NODE_EXTRA_CA_CERTS=$Keybound::PKI/roots.crt", $node, "$Keybound::ROOT/nginx-test/as/dpop-client.mjs",
        '--issuer', Keybound::as_start('as')->{issuer}, '--resource', $resource, map { ("--$_", $how{$_}) } sort keys %how);
    my ($status, $out, $err) = Keybound::command('', @words, $url);
    return $status == 0 ? Keybound::json($out) : { error => $err };
}

1;
