#!/usr/bin/env bash
# The command line as an operator uses it, against the real authorization server and the scripted peer: how the gateway authenticates
# at each endpoint as the server saw it, whom it trusts, how long it waits, and that no token or secret is ever shown.
#
#   KEYBOUND=FILE   the program, when not target/release/keybound
# shellcheck disable=SC2016 # the backticks are JavaScript's
set -euo pipefail

RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT
trap 'exit 130' INT TERM
keybound=${KEYBOUND:-${CARGO_TARGET_DIR:-$repo/target}/release/keybound}
node=$("$repo/tools/node.sh")

passed=0
failed=0
good() { passed=$((passed + 1)) && printf 'ok   %s\n' "$1"; }
bad() {
  failed=$((failed + 1))
  printf 'FAIL %s\n  expected %s\n  got      %s\n' "$@"
}
# same NAME EXPECTED GOT; holds NAME PART TEXT
same() { if [ "$2" = "$3" ]; then good "$1"; else bad "$1" "$2" "$3"; fi; }
holds() { if [[ "$3" == *"$2"* ]]; then good "$1"; else bad "$1" "...$2..." "$3"; fi; }

# kb ARGUMENTS...: $code, $out and $err of the program. All that it ever said on standard error is kept for the end of this script.
kb() {
  code=0
  out=$("$keybound" --verbose "$@" 2>"$RUN/err") || code=$?
  err=$(<"$RUN/err")
  cat "$RUN/err" >>"$RUN/said"
}
# of EXPRESSION: of `it`, the JSON that the program printed
of() { "$node" -e 'const it = JSON.parse(process.argv[1] || "null"); console.log(String(eval(process.argv[2])))' "$out" "$1"; }
requests() { of 'it.requests.map((r) => `${r.endpoint} ${r.outcome} ${r.status}`).join(", ")'; }

# config [MEMBERS]: the gateway's configuration with these, in $config; the issuer is $issuer. It is patient, unless they are about that.
config=$RUN/config.json
config() {
  [[ "${1-}" == *timeout* ]] || set -- "\"timeout\": 20000, \"connect_timeout\": 20000, \"read_timeout\": 20000${1:+, $1}"
  printf '{"issuer": "%s", "audience_required": ["https://api.test"], "ssl_trusted_certificate": "%s/ca.crt"%s}\n' \
    "$issuer" "$pki" "${1:+, $1}" >"$config"
}
# certificate NAME: the members that offer it
certificate() {
  printf '"tls_client_auth_cert_id": "c", "client_certificates": {"c": {"certificate": "%s/%s.crt", "private_key": "%s/%s.key"}}' \
    "$pki" "$1" "$pki" "$1"
}
# quoted FILE: its text as a JSON string
quoted() { "$node" -p 'JSON.stringify(require("fs").readFileSync(process.argv[1], "utf8"))' "$1"; }
# seen PATH: each request for it, as the server's log has it: port, client, certificate, Authorization, parameters, status
seen() {
  as_log | "$node" -e '
    for (const r of JSON.parse(require("fs").readFileSync(0)).filter((each) => each.path === process.argv[1])) {
      const parameters = r.body_parameters.sort().join("+");
      console.log(r.port, r.client_id, r.certificate?.["x5t#S256"] ?? "-", r.headers.authorization ?? "-", parameters, r.status);
    }' "$1"
}

"$here/pki.sh" "$pki"
as_start as
opaque=https://api.test/opaque

# --- Each method at each endpoint, as the server saw it

# method NAME CLIENT CERTIFICATE AUTHORIZATION PARAMETERS MEMBERS: gets a token, asks about it, revokes it, and asks again
method() {
  local name=$1 client=$2 port=main x5t=- parameters=$5 call token_text
  if [ "$3" != - ]; then
    port=mtls
    x5t=$(thumbprint "$3")
  fi
  config "\"client_id\": \"$client\", $6"
  as_control /log/clear '{}' >/dev/null
  kb token --config "$config" --resource $opaque --scope read
  token_text=$(of 'it?.access_token')
  printf '%s\n' "$token_text" | tee "$RUN/token" >>"$RUN/secrets"
  same "$name: token" "0 read" "$code $(of 'it?.scope')"
  kb introspect --config "$config" --token "@$RUN/token"
  same "$name: introspect" "0 true $client" "$code $(of '`${it?.active} ${it?.client_id}`')"
  kb revoke --config "$config" --token "$token_text" --hint access_token
  same "$name: revoke" "0 " "$code $out"
  kb introspect --config "$config" --token - <"$RUN/token"
  same "$name: introspect a revoked token" "1 false" "$code $(of 'it?.active')"
  sorted() { tr '+' '\n' <<<"$1" | sed '/^$/d' | sort | paste -sd+; }
  same "$name: the server's log, token" \
    "$port $client $x5t $4 $(sorted "$parameters+grant_type+resource+scope") 200" "$(seen /token)"
  call="$port $client $x5t $4 $(sorted "$parameters+token+token_type_hint") 200"
  same "$name: the server's log, introspection" "$call"$'\n'"$call" "$(seen /token/introspection)"
  same "$name: the server's log, revocation" "$call" "$(seen /token/revocation)"
}

assertion=client_id+client_assertion+client_assertion_type
printf '%s\n' gateway-basic-secret gateway-post-secret '+ %:&="secret"' gateway-secret-jwt-secret-of-32-octets >"$RUN/secrets"

method 'tls_client_auth' gateway gateway - client_id "$(certificate gateway)"
method 'self_signed_tls_client_auth' gateway-self-signed gateway-self-signed - client_id \
  "\"client_auth\": \"self_signed_tls_client_auth\", $(certificate gateway-self-signed)"
method 'client_secret_basic' gateway-basic - Basic '' '"client_secret": "gateway-basic-secret"'
method 'client_secret_basic, odd characters' gateway:odd - Basic '' '"client_secret": "+ %:&=\"secret\""'
method 'client_secret_post' gateway-post - - client_id+client_secret \
  '"client_auth": "client_secret_post", "client_secret": "gateway-post-secret"'
method 'client_secret_jwt' gateway-secret-jwt - - $assertion \
  '"client_auth": "client_secret_jwt", "client_secret": "gateway-secret-jwt-secret-of-32-octets"'
for key in rsa:RS256 rsa:PS256 ec:ES256 ed25519:EdDSA; do
  method "private_key_jwt ${key#*:}" gateway-key - - $assertion \
    "\"client_alg\": \"${key#*:}\", \"client_jwk\": $(quoted "$pki/gateway-key-${key%:*}.key")"
done
method 'private_key_jwt with a client certificate' gateway-key gateway - $assertion \
  "\"client_auth\": \"private_key_jwt\", \"client_jwk\": $(quoted "$pki/gateway-key-ec.key"), $(certificate gateway)"
method 'client_secret_basic with a client certificate' gateway-basic gateway-b Basic '' \
  "\"client_auth\": \"client_secret_basic\", \"client_secret\": \"gateway-basic-secret\", $(certificate gateway-b)"
method 'none, and a client that may' gateway-none - - client_id '"client_auth": "none"'

# --- Forms of certificates and keys

openssl ec -in "$pki/gateway.key" -out "$pki/sec1.key" 2>/dev/null
cat "$pki/gateway.crt" "$pki/ca.crt" >"$pki/sec1.crt"
openssl rsa -traditional -in "$pki/rsa.key" -out "$pki/pkcs1.key" 2>/dev/null
cp "$pki/rsa.crt" "$pki/pkcs1.crt"
for form in gateway:sec1 client-rsa:pkcs1 client-rsa:rsa client-ed25519:ed25519; do
  config "\"client_id\": \"${form%:*}\", $(certificate "${form#*:}")"
  kb token --config "$config" --resource $opaque
  same "client certificate and key, ${form#*:}" 0 "$code"
  of 'it?.access_token' >>"$RUN/secrets"
done
config "\"client_id\": \"gateway\", \"tls_client_auth_cert_id\": \"c\", \"client_certificates\": {\"c\": {
  \"certificate\": $(quoted "$pki/gateway.crt"), \"private_key\": $(quoted "$pki/sec1.key")}}"
kb token --config "$config" --resource $opaque
same 'client certificate and key as PEM in the configuration' 0 "$code"
of 'it?.access_token' >>"$RUN/secrets"
cp "$pki/client.crt" "$pki/crossed.crt"
cp "$pki/gateway.key" "$pki/crossed.key"
cp "$pki/client.crt" "$pki/encrypted.crt"
openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:x -in "$pki/client.key" -out "$pki/encrypted.key"
cp "$pki/client.crt" "$pki/keyless.crt"
while IFS='|' read -r name message; do
  config "\"client_id\": \"gateway\", $(certificate "$name")"
  kb token --config "$config"
  same "a pair that is none, $name: exit code" 2 "$code"
  holds "a pair that is none, $name: message" "$message" "$err"
done <<'TABLE'
crossed|client_certificates.c: private_key is not that of the certificate
encrypted|no private key in PEM that is not encrypted
keyless|client_certificates.c.private_key: 
absent|client_certificates.c.certificate: 
TABLE

# --- A method of its own for an endpoint

config '"client_id": "gateway-secret-jwt", "client_secret": "gateway-secret-jwt-secret-of-32-octets", "client_auth": "client_secret_basic",
  "introspection_endpoint_auth_method": "client_secret_jwt"'
as_control /log/clear '{}' >/dev/null
kb introspect --config "$config" --token x
same 'introspection_endpoint_auth_method: at that endpoint' '1 false' "$code $(of 'it?.active')"
same "introspection_endpoint_auth_method: the server's log" \
  "main gateway-secret-jwt - - client_assertion+client_assertion_type+client_id+token+token_type_hint 200" "$(seen /token/introspection)"
kb token --config "$config"
same 'introspection_endpoint_auth_method: at no other' \
  '2 keybound: client_refused: the token endpoint answered 401 (invalid_client)' "$code $(tail -n 1 <<<"$err")"
same "the server's log, token" "main gateway-secret-jwt - Basic grant_type 401" "$(seen /token)"
config "\"client_id\": \"gateway\", $(certificate gateway), \"revocation_endpoint_cert_id\": \"d\",
  \"introspection_endpoint\": \"$issuer/token/introspection\""
sed -i 's|"client_certificates": {|&"d": {"certificate": "'"$pki/client.crt"'", "private_key": "'"$pki/client.key"'"}, |' "$config"
as_control /log/clear '{}' >/dev/null
kb revoke --config "$config" --token x
same 'revocation_endpoint_cert_id: refused, since it is of another client' 2 "$code"
same "revocation_endpoint_cert_id: the server's log" \
  "mtls gateway $(thumbprint client) - client_id+token 401" "$(seen /token/revocation)"
kb introspect --config "$config" --token x
same "a configured endpoint instead of the alias: the server's log" \
  "main gateway $(thumbprint gateway) - client_id+token+token_type_hint 200" "$(seen /token/introspection)"

# --- Signed responses (RFC 9701)

bearer=$(token client client $opaque)
jwt=$(token client client)
printf '%s\n' "$bearer" "$jwt" >>"$RUN/secrets"
printf %s "$bearer" >"$RUN/opaque"
printf %s "$jwt" >"$RUN/jwt"
while IFS='|' read -r client alg members; do
  [ "$members" != CERTIFICATE ] || members=$(certificate "$client")
  config "\"client_id\": \"$client\", \"introspection_accept\": \"application/token-introspection+jwt\", \"algorithms\": [\"$alg\"], $members"
  kb introspect --config "$config" --token "@$RUN/opaque"
  same "signed response, $alg" '0 true client' "$code $(of '`${it?.active} ${it?.client_id}`')"
  holds "signed response, $alg: verified with the server's keys" "$issuer/jwks: answered 200" "$err"
done <<'TABLE'
gateway|RS256|CERTIFICATE
gateway-b|ES256|CERTIFICATE
gateway-basic|PS256|"client_secret": "gateway-basic-secret"
gateway-post|EdDSA|"client_auth": "client_secret_post", "client_secret": "gateway-post-secret"
TABLE
sed -i 's/"EdDSA"/"RS256"/' "$config"
kb introspect --config "$config" --token "@$RUN/opaque"
holds 'signed response with another algorithm' 'introspection_unavailable: the signed response: algorithm_refused' "$code $err"

# --- Check

as=(--issuer "$issuer" --audience https://api.test)
kb check "${as[@]}" --ca "$pki/ca.crt" --token "@$RUN/jwt" --cert "$pki/client.crt"
same 'check a JWT, keys by discovery' '0 allow allowed true null' \
  "$code $(of '`${it.decision} ${it.reason} ${it.claims_verified} ${it.detail}`')"
same 'check a JWT: what was asked' 'metadata answered 200, jwks answered 200' "$(requests)"
kb check "${as[@]}" --ca "$pki/ca.crt" --token "@$RUN/jwt" --cert "$pki/thief.crt"
same 'check a JWT with another certificate: refused without asking' '1 deny certificate_mismatch ' \
  "$code $(of '`${it.decision} ${it.reason}`') $(requests)"
kb check --issuer "$issuer" --audience https://other.test --ca "$pki/ca.crt" --token "@$RUN/jwt" --cert "$pki/client.crt"
same 'check a JWT for another audience' '1 audience_mismatch' "$code $(of it.reason)"
client=(--client-id gateway --client-cert "$pki/gateway.crt" --client-key "$pki/gateway.key")
kb check "${as[@]}" --ca "$pki/ca.crt" "${client[@]}" --token "@$RUN/opaque" --cert "$pki/client.crt"
same 'check an opaque token' '0 allow allowed true client' \
  "$code $(of '`${it.decision} ${it.reason} ${it.claims_verified} ${it.claims.client_id}`')"
same 'check an opaque token: what was asked' 'metadata answered 200, introspection answered 200' "$(requests)"
kb check "${as[@]}" --ca "$pki/ca.crt" "${client[@]}" --token "@$RUN/opaque" --cert "$pki/thief.crt"
same 'check an opaque token with another certificate' '1 deny certificate_mismatch' "$code $(of '`${it.decision} ${it.reason}`')"
kb check "${as[@]}" --ca "$pki/ca.crt" "${client[@]}" --token unknown --cert "$pki/client.crt"
same 'check an unknown token' '1 deny token_inactive' "$code $(of '`${it.decision} ${it.reason}`')"
config "\"jwks\": $(<"$RUN/jwks.json")"
kb check --config "$config" --token "@$RUN/jwt" --cert "$pki/client.crt"
same 'check with keys in the configuration: nothing is asked' '0 allow ' "$code $(of it.decision) $(requests)"

# --- Proofs

for name in phone other; do
  openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$pki/$name.pem"
done
openssl genpkey -quiet -algorithm ED25519 -out "$pki/ed25519.pem"
# key_token KEY RESOURCE: what the server says to a client that sends a proof by that key, made by the program
key_token() {
  kb proof --key "$pki/$1.pem" --method POST --url "$issuer/token"
  fetch -u unbound:unbound-secret -H "DPoP: $out" "$issuer/token" -d grant_type=client_credentials -d "resource=$2" -d scope=read \
    | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}
for key in phone ed25519; do
  key_token $key https://api.test >"$RUN/$key.token"
  kb thumbprint "$pki/$key.pem"
  same "proof, $key: the server binds the token to the key" "0 {\"jkt\":\"$out\"}" \
    "$code $("$node" -p 'JSON.stringify(JSON.parse(process.argv[1]).cnf)' "$(claims "$(<"$RUN/$key.token")")")"
done
key_token phone $opaque >"$RUN/phone-opaque.token"
cat "$RUN"/*.token >>"$RUN/secrets"
url=https://api.test/orders
# proved NAME EXPECTED TOKEN KEY CHECK_ARGUMENT...: a check with a proof for $url
proved() {
  kb proof --key "$pki/$4.pem" --url $url --token "@$RUN/$3.token"
  printf '%s\n' "$out" | tee "$RUN/proof" >>"$RUN/secrets"
  kb check "${as[@]}" --ca "$pki/ca.crt" --token "@$RUN/$3.token" --dpop "@$RUN/proof" "${@:5}"
  same "$1" "$2" "$code $(of '`${it.decision} ${it.reason} ${it.proof.claims_verified}`')"
}
proved 'check a JWT with its proof, keys by discovery' '0 allow allowed true' phone phone --url $url
same 'check a JWT with its proof: what was asked' 'metadata answered 200, jwks answered 200' "$(requests)"
proved 'check a JWT with its proof, Ed25519' '0 allow allowed true' ed25519 ed25519 --url $url
proved 'check a JWT with the proof of another key: refused without asking' '1 deny proof_key_mismatch false' phone other --url $url
same 'check a JWT with the proof of another key: what was asked' '' "$(requests)"
proved 'check a JWT with a proof for another method' '1 deny proof_method_mismatch false' phone phone --url $url --method POST
proved 'check a JWT with a proof, sent as Bearer' '1 deny dpop_scheme_required false' phone phone --url $url --scheme bearer
proved 'check an opaque token with its proof' '0 allow allowed true' phone-opaque phone --url $url "${client[@]}"
proved 'check an opaque token with the proof of another key' '1 deny proof_key_mismatch false' phone-opaque other --url $url "${client[@]}"

# --- Whom it trusts

# trouble: of the one request that a check made: outcome and cause
trouble() { of '`${it.decision} ${it.reason} ${it.requests.length} ${it.requests[0].outcome}: ${it.requests[0].error}`'; }
untrusted='error keys_unavailable 1 tls: invalid peer certificate:'
kb check "${as[@]}" --ca "$pki/other-ca.crt" --token "@$RUN/jwt" --cert "$pki/client.crt"
same 'another CA' "2 $untrusted UnknownIssuer" "$code $(trouble)"
SSL_CERT_FILE=$pki/ca.crt kb check "${as[@]}" --token "@$RUN/jwt" --cert "$pki/client.crt"
same "the system's CAs, ours among them" '0 allow' "$code $(of it.decision)"
SSL_CERT_FILE=$pki/other-ca.crt kb check "${as[@]}" --token "@$RUN/jwt" --cert "$pki/client.crt"
same "the system's CAs without ours" "2 $untrusted UnknownIssuer" "$code $(trouble)"
HTTPS_PROXY=http://127.0.0.1:1 https_proxy=http://127.0.0.1:1 ALL_PROXY=http://127.0.0.1:1 \
  kb check "${as[@]}" --ca "$pki/ca.crt" --token "@$RUN/jwt" --cert "$pki/client.crt"
same 'a proxy of the environment is not used' '0 allow' "$code $(of it.decision)"
for name in as-wrong-name as-expired; do
  as_start $name
  kb check --issuer "$issuer" --audience https://api.test --ca "$pki/ca.crt" --token x.y.z --cert "$pki/client.crt"
  same "$name: a token that is no JWT needs no server" '1 deny' "$code $(of it.decision)"
  config "\"client_id\": \"gateway\", $(certificate gateway)"
  kb introspect --config "$config" --token x
  same "$name: exit code" 2 "$code"
  holds "$name: message" 'metadata_unavailable: ' "$err"
  holds "$name: cause" '(invalid peer certificate: ' "$err"
  config "\"client_id\": \"gateway\", $(certificate gateway), \"tls_client_auth_ssl_verify\": false"
  kb introspect --config "$config" --token x
  same "$name: tls_client_auth_ssl_verify is not about requests without a certificate" 2 "$code"
  config "\"client_id\": \"gateway\", $(certificate gateway), \"tls_client_auth_ssl_verify\": false,
    \"introspection_endpoint\": \"https://localhost:$mtls_port/token/introspection\""
  kb introspect --config "$config" --token x
  same "$name: with tls_client_auth_ssl_verify: false" '1 false' "$code $(of 'it?.active')"
  holds "$name: with a warning" 'tls_client_auth_ssl_verify is false: whoever is on the way' "$err"
  same "$name: the certificate is offered all the same" \
    "mtls gateway $(thumbprint gateway) - client_id+token+token_type_hint 200" "$(seen /token/introspection)"
  stop "$RUN/$name.pid"
done
as_use as

# --- How long it waits

config '"timeout": 400, "connect_timeout": 400'
as_control /hang '{"ms": 5000}' >/dev/null
kb check --config "$config" --token "@$RUN/jwt" --cert "$pki/client.crt"
as_control /hang '{"ms": 0}' >/dev/null
same 'a server that hangs' '2 error keys_unavailable 1 timeout: no answer in time' "$code $(trouble)"
same 'a server that hangs: as long as configured' true "$(of 'it.requests[0].ms >= 390 && it.requests[0].ms < 3000')"
config
as_control /fail '{"status": 503, "path": "/jwks"}' >/dev/null
kb check --config "$config" --token "@$RUN/jwt" --cert "$pki/client.crt"
as_control /fail '{"status": 0}' >/dev/null
same 'a server that fails' 'keys_unavailable metadata answered 200, jwks answered 503' "$(of it.reason) $(requests)"

# --- What a peer can do

peer_start
issuer=https://$peer
member=openid-configuration
# met NAME EXPECTED SCRIPT [MEMBERS]: what becomes of the first request
met() {
  config "${4-}"
  peer_script "$3" >/dev/null
  kb check --config "$config" --token "@$RUN/peer-jwt" --cert "$pki/client.crt"
  same "$1" "$2" "$code $(of '`${it.requests[0]?.outcome} ${it.requests[0]?.status}`')"
}
# A token that names the peer as its issuer: nobody gets as far as its signature.
replace_claims "$jwt" "$(claims "$jwt" | sed "s|\"iss\":\"[^\"]*\"|\"iss\":\"$issuer\"|")" >"$RUN/peer-jwt"
met 'a handshake that hangs' '2 timeout null' '{"connect": {"hang": true}}' '"connect_timeout": 300'
met 'no TLS' '2 tls null' '{"connect": [{"send": "HTTP/1.1 400 Bad Request\r\n\r\n"}, {"close": true}]}'
config
peer_script '{"connect": {"reset": true}}' >/dev/null
kb check --config "$config" --token "@$RUN/peer-jwt" --cert "$pki/client.crt"
# It may come before the connection is seen to be there.
same 'a reset before the handshake' true "$(of '["connect", "tls"].includes(it.requests[0].outcome)')"
met 'a redirect is an answer' '2 answered 302' '{"*": {"status": 302, "headers": {"Location": "https://elsewhere.test/"}}}'
met 'an error is an answer' '2 answered 500' '{"*": {"status": 500}}'
met 'no HTTP' '2 malformed null' '{"*": [{"send": "SSH-2.0\r\n"}, {"close": true}]}'
met 'compression that was not asked for' '2 malformed null' '{"*": {"json": {}, "gzip": true}}'
met 'a body that is too large' '2 too_large null' '{"*": {"json": {}, "pad": 1}}'
met 'a body without end' '2 too_large null' '{"*": {"json": {}, "pad": 1, "chunked": true, "endless": true}}'
met 'a connection that ends early' '2 malformed null' \
  '{"*": [{"json": {}, "headers": {"Content-Length": "10"}}, {"close": true}]}'
met 'a body up to an end that TLS does not vouch for' '2 malformed null' \
  '{"*": [{"json": {}, "headers": {"Content-Length": null}}, {"close": "abrupt"}]}'
met 'a body that comes too slowly' '2 timeout null' '{"*": {"json": {}, "drip": 100}}' '"timeout": 2000, "connect_timeout": 2000'
met 'between two reads' '2 timeout null' '{"*": [{"send": "HTTP/1.1 "}, {"hang": true}]}' '"timeout": 20000, "connect_timeout": 10000, "read_timeout": 100'
same 'between two reads: not the whole time' true "$(of 'it.requests[0].ms < 15000')"

peer_script "{\"/.well-known/$member\": {\"json\": {\"issuer\": \"$issuer\", \"jwks_uri\": \"https://elsewhere.test/jwks\",
  \"token_endpoint\": \"https://elsewhere.test/token\"}}}" >/dev/null
refused='of the metadata names the host elsewhere.test, which is neither the issuer'"'"'s nor in endpoint_hosts'
config "\"client_id\": \"gateway\", $(certificate gateway)"
kb token --config "$config"
same 'a token endpoint elsewhere' "2 keybound: metadata_unavailable: token_endpoint $refused" "$code $(tail -n 1 <<<"$err")"
kb check --config "$config" --token "@$RUN/peer-jwt" --cert "$pki/client.crt"
same 'keys elsewhere' "2 error jwks_uri $refused" "$code $(of '`${it.decision} ${it.detail}`')"
config "\"client_id\": \"gateway\", $(certificate gateway), \"endpoint_hosts\": [\"elsewhere.test\"]"
kb token --config "$config"
holds 'with endpoint_hosts it is asked for' 'https://elsewhere.test/token: ' "$err"
# An authorization server that repeats what it was told.
peer_script '{"/": {"status": 400, "json": {"error": "Of gateway-basic-secret", "error_description": "gateway-basic-secret"}}}' >/dev/null
config "\"client_id\": \"x\", \"client_secret\": \"gateway-basic-secret\", \"token_endpoint\": \"$issuer/token\""
kb token --config "$config"
same 'an error that is no error code' '2 keybound: server_unavailable: the token endpoint answered 400' "$code $(tail -n 1 <<<"$err")"

# --- Versions of TLS

for version in 1.2:0 1.1:2; do
  peer_start "tls-${version%:*}" --max-tls "${version%:*}"
  peer_script '{"/token": {"json": {"access_token": "x"}}}' >/dev/null
  config "\"client_id\": \"gateway\", $(certificate gateway), \"token_endpoint\": \"https://$peer/token\""
  kb token --config "$config"
  same "a server with TLS ${version%:*}" "${version#*:}" "$code"
done
same 'and with TLS 1.2 the certificate is offered, too' "$(thumbprint gateway)" \
  "$(peer_use tls-1.2 && peer_log | sed -n 's/.*"x5t#S256":"\([^"]*\)".*/\1/p')"

# --- A server that refuses the gateway's certificate: with TLS 1.3 it says so after the handshake

for version in 1_2 1_3; do
  port=$(free_ports 1)
  setsid openssl s_server -accept "127.0.0.1:$port" -cert "$pki/as.crt" -key "$pki/as.key" -CAfile "$pki/other-ca.crt" \
    -Verify 1 -verify_return_error -www "-tls$version" >"$RUN/refusing.log" 2>&1 </dev/null &
  echo $! >"$RUN/refusing.pid"
  wait_until 10 'start of openssl s_server' grep -qs ACCEPT "$RUN/refusing.log"
  config "\"client_id\": \"gateway\", $(certificate gateway), \"token_endpoint\": \"https://localhost:$port/token\""
  kb token --config "$config"
  same "the certificate is refused, TLS $version" \
    '2 keybound: server_unavailable: the token endpoint: tls (received fatal alert: UnknownCA)' "$code $(tail -n 1 <<<"$err")"
  stop "$RUN/refusing.pid"
done

# --- Nobody there

issuer=https://localhost:$(free_ports 1)
config "\"client_id\": \"gateway\", $(certificate gateway)"
kb introspect --config "$config" --token x
holds 'nobody there' 'metadata_unavailable: ' "$err"
holds 'nobody there: outcome' 'openid-configuration: connect, ' "$err"
issuer=https://nobody.invalid
config "\"client_id\": \"gateway\", $(certificate gateway)"
kb introspect --config "$config" --token x
same 'a name that is none' true "$(grep -qE 'openid-configuration: (resolve|timeout), ' <<<"$err" && echo true)"

same 'no token and no secret was ever shown' '' "$(grep -Fof "$RUN/secrets" "$RUN/said" | sort -u)"
same 'what was shown' true "$([ "$(wc -l <"$RUN/said")" -gt 100 ] && [ "$(wc -l <"$RUN/secrets")" -gt 20 ] && echo true)"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
