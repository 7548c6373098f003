#!/usr/bin/env bash
# Writes fixtures.lua, the input of test.lua: one key of an authorization server, two client certificates and tokens for a fixed time.
# The private keys are made for one run and thrown away. Needs OpenSSL 3.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

b64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

openssl genpkey -algorithm ed25519 -out "$work/as.key"
x=$(openssl pkey -in "$work/as.key" -pubout -outform DER | tail -c 32 | b64url)
jwk="{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"$x\",\"kid\":\"as-1\",\"alg\":\"EdDSA\",\"use\":\"sig\"}"

for name in client thief; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/$name.key" -out "$work/$name.pem" \
    -subj "/CN=$name" -days 3650 2>/dev/null
  openssl x509 -in "$work/$name.pem" -outform DER -out "$work/$name.der"
done
x5t=$(openssl dgst -sha256 -binary "$work/client.der" | b64url)

token() { # token CLAIMS: what the issuer signs
  printf '%s.%s' "$(printf '{"alg":"EdDSA","typ":"at+jwt","kid":"as-1"}' | b64url)" "$(printf '%s' "$1" | b64url)" >"$work/signed"
  openssl pkeyutl -sign -rawin -inkey "$work/as.key" -in "$work/signed" -out "$work/signature"
  printf '%s.%s' "$(cat "$work/signed")" "$(b64url <"$work/signature")"
}

claims='"iss":"https://as.example","aud":"https://api.example","sub":"alice","client_id":"shop","jti":"1"'
times='"iat":1800000000,"exp":1800000300'
cnf="\"cnf\":{\"x5t#S256\":\"$x5t\"}"
# One of each kind of value, for the table of claims.
kinds='"scope":"read write","null":null,"yes":true,"no":false,"big":9007199254740993,"max":9223372036854775807,"beyond":9223372036854775808,"half":0.5,"text":"caf\u00e9 \ud83d\ude00 \"q\"","list":[1,null,[2,3],{"k":"v"}],"empty":[],"none":{},"1":"one","deep":{"a":{"b":"c"}},"line":"a\r\nX-Admin: 1"'
bound=$(token "{$claims,$times,$cnf,$kinds}")
unbound=$(token "{$claims,$times}")
lasting=$(token "{$claims,$cnf,\"iat\":1000000000,\"exp\":4102444800}")

cat >"$work/fixtures.lua" <<END
-- Made by make-fixtures.sh, whose private keys are gone. The tokens are valid from 1800000000 for 300 seconds; \`lasting\` is valid
-- from 2001 to 2100.
return {
  issued = 1800000000,
  expires = 1800000300,
  jwk = '$jwk',
  x5t = "$x5t",
  bound = "$bound",
  unbound = "$unbound",
  lasting = "$lasting",
  client_pem = [[
$(cat "$work/client.pem")
]],
  client_der_hex = "$(od -An -v -tx1 "$work/client.der" | tr -d ' \n')",
  thief_pem = [[
$(cat "$work/thief.pem")
]],
}
END
mv "$work/fixtures.lua" fixtures.lua
