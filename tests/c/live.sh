# shellcheck shell=bash disable=SC2154
# The example introspect, and logins, against a real authorization server, over mutual TLS. Sourced by run.sh, whose functions it uses.
RUN=$work/live
mkdir "$RUN"
. nginx-test/lib.sh
trap 'stop_all; rm -rf "$work"' EXIT
nginx-test/pki.sh "$pki"
as_start
introspect=$bin/introspect

# options NAME MEMBERS: a configuration with these members, as $RUN/NAME.json
options() { printf '{"issuer":"%s","audience_required":["https://api.test"]%s}' "$issuer" "$2" >"$RUN/$1.json"; }
# text FILE: a file as the inside of a JSON string
text() { awk '{ printf "%s\\n", $0 }' "$1"; }
trusted() { printf ',"ssl_trusted_certificate":"%s"' "$1"; }
# client CERTIFICATE KEY: the gateway as a client, with this certificate
client() {
  printf ',"client_id":"gateway","tls_client_auth_cert_id":"own"'
  printf ',"client_certificates":{"own":{"certificate":"%s","private_key":"%s"}}' "$1" "$2"
}
ca=$(trusted "$pki/ca.crt")
gateway=$(client "$pki/gateway.crt" "$pki/gateway.key")
endpoint=https://localhost:$mtls_port/token/introspection
direct=',"mtls_introspection_endpoint":"'$endpoint'"'
# Under valgrind everything takes its time.
patient=',"timeout":60000,"connect_timeout":30000'

options jwt "$ca$patient"
options discovering "$ca$gateway$patient"
options direct "$ca$gateway$direct$patient"
options text "$(trusted "$(text "$pki/ca.crt")")$(client "$(text "$pki/gateway.crt")" "$(text "$pki/gateway.key")")$direct$patient"
options shared "$ca$gateway$direct,\"store_secret\":\"0123456789abcdef0123456789abcdef\""
options hurried "$ca$gateway$direct,\"timeout\":300"
options another-client "$ca$(client "$pki/client.crt" "$pki/client.key")$direct"
options no-key "$ca$(client "$pki/gateway.crt" "$RUN/none.key")$direct"
options stranger "$(trusted "$pki/other-ca.crt")$gateway$direct"
options stranger-text "$(trusted "$(text "$pki/other-ca.crt")")$gateway$direct"
secret=0123456789abcdef0123456789abcdef
options login "$ca$gateway,\"auth_methods\":[\"session\",\"bearer\"],\"session_secret\":\"$secret\",\"store_secret\":\"$secret\""
options unverified "$(trusted "$pki/other-ca.crt")$gateway$direct,\"tls_client_auth_ssl_verify\":false"

token client client https://api.test/opaque >"$RUN/opaque.token"
token client client https://api.test/opaque >"$RUN/revoked.token"
token client client https://api.test/es256 >"$RUN/jwt.token"
opaque=$RUN/opaque.token jwt=$RUN/jwt.token
own=$pki/client.crt
metadata_fetch="fetch: metadata $issuer/.well-known/openid-configuration"
introspection_fetch="fetch: introspection $endpoint"
keys_fetch="fetch: jwks $issuer/jwks"
distrust='no TLS connection, or the server'\''s certificate is not trusted'

as_control /log/clear '{}' >"$RUN/log"
says "introspect: an opaque token, its own certificate" 0 "$metadata_fetch" "$introspection_fetch" 'allow: allowed' -- \
  "$introspect" "$RUN/discovering.json" "$opaque" "$own"
cp "$work/log" "$RUN/said"
check "introspect: the claims are the server's" grep -q '^claims: {"active":true,"client_id":"client",' "$RUN/said"
says "introspect: an opaque token, another certificate" 1 "$introspection_fetch" 'deny: certificate_mismatch' -- \
  "$introspect" "$RUN/direct.json" "$opaque" "$pki/rsa.crt"
says "introspect: an opaque token, no certificate" 1 'deny: certificate_missing' -- "$introspect" "$RUN/direct.json" "$opaque"
says "introspect: certificate, key and CA as text" 0 'allow: allowed' -- "$introspect" "$RUN/text.json" "$opaque" "$own"
says "introspect: a store that is not there" 0 'allow: allowed' -- "$introspect" "$RUN/shared.json" "$opaque" "$own"
says "introspect: a JWT, its keys by discovery" 0 "$metadata_fetch" "$keys_fetch" 'allow: allowed' -- \
  "$introspect" "$RUN/jwt.json" "$jwt" "$own"

fetch --cert "$own" --key "$pki/client.key" "https://localhost:$mtls_port/token/revocation" -d client_id=client \
  --data-urlencode "token=$(<"$RUN/revoked.token")"
says "introspect: a revoked token" 1 "$introspection_fetch" 'deny: token_inactive' -- \
  "$introspect" "$RUN/direct.json" "$RUN/revoked.token" "$own"

# What the server saw of all this.
as_log >"$RUN/log"
logged() { # logged EXPRESSION: whether it is true of the requests `of(PATH)`
  "$("$repo/tools/node.sh")" -e '
    const log = JSON.parse(require("fs").readFileSync(process.argv[1]));
    const of = (path) => log.filter((entry) => entry.path === path);
    const ours = of("/token/introspection");
    const [metadata] = of("/.well-known/openid-configuration").slice(-1);
    const [keys] = of("/jwks");
    process.exit(eval(process.argv[2]) ? 0 : 1);' "$RUN/log" "$1"
}
check "introspect: all introspections came to the port for mutual TLS" \
  logged 'ours.length === 5 && ours.every((e) => e.port === "mtls")'
check "introspect: with the gateway's certificate" \
  logged "ours.every((e) => e.certificate['x5t#S256'] === '$(thumbprint gateway)' && e.certificate.subject === 'CN=gateway')"
check "introspect: with its client_id, the hint, and nothing else" logged 'ours.every((e) => e.client_id === "gateway"
  && e.token_type_hint === "access_token" && e.body_parameters.join() === "token,token_type_hint,client_id"
  && !e.headers.authorization)'
check "introspect: metadata and keys over one connection, without a certificate" logged 'metadata.connection === keys.connection
  && metadata.port === "main" && !metadata.certificate && !keys.certificate'
check "introspect: TLS 1.2 or later" logged 'log.every((e) => ["TLSv1.2", "TLSv1.3"].includes(e.tls_version))'

# A gateway and a browser in one: what it sees, and what the server saw.
as_control /log/clear '{}' >"$RUN/log"
run_tests login "$bin/login" "$pki" "$issuer"
as_log >"$RUN/log"
own_all="e.port === 'mtls' && e.client_id === 'web' && e.certificate['x5t#S256'] === '$(thumbprint web)'"
grants='authorization_code,authorization_code,refresh_token,authorization_code,'
check "login: codes, refresh tokens and passwords came with the gateway's certificate" logged "of('/token').every((e) => $own_all)
  && of('/token').map((e) => e.grant_type).join() === '${grants}${grants}password,password'"
check "login: each of them came once, and first on its connection" \
  logged 'of("/token").every((e) => log.find((each) => each.connection === e.connection) === e)'
check "login: the refresh token was revoked, and then the access token, if that is no JWT" \
  logged "of('/token/revocation').every((e) => $own_all) && of('/token/revocation').map((e) => e.token_type_hint + ' ' + e.status).join()
    === 'refresh_token 200,access_token 400,refresh_token 200,access_token 200'"
says "introspect: logins, which it has no HTTP for" 2 'sessions, logins and grants need more of a host than this one has' -- \
  "$introspect" "$RUN/login.json" "$opaque" "$own"
memory login "$bin/login" "$pki" "$issuer"

# The server refuses, is somebody else, is slow, sends us away.
says "introspect: a client certificate that is not the gateway's" 1 'deny: client_refused' \
  'detail: the introspection endpoint answered 401' -- "$introspect" "$RUN/another-client.json" "$opaque" "$own"
for name in stranger stranger-text; do
  says "introspect: a server that is not trusted ($name)" 1 'deny: introspection_unavailable' "detail: $distrust" -- \
    "$introspect" "$RUN/$name.json" "$opaque" "$own"
done
says "introspect: the operator does not want it verified" 0 'allow: allowed' -- \
  "$introspect" "$RUN/unverified.json" "$opaque" "$own"
says "introspect: a key that is not there is found at the start" 2 "$RUN/none.key: No such file or directory" -- \
  "$introspect" "$RUN/no-key.json" "$opaque" "$own"
as_control /hang '{"ms":3000,"path":"/token/introspection"}' >"$RUN/log"
says "introspect: a server that is slow" 1 'deny: introspection_unavailable' 'detail: no answer in time' -- \
  "$introspect" "$RUN/hurried.json" "$opaque" "$own"
as_control /hang '{"ms":0}' >"$RUN/log"
as_control /fail '{"status":307,"headers":{"Location":"'"$endpoint"'?elsewhere"},"path":"/token/introspection"}' >"$RUN/log"
says "introspect: a redirect is not followed" 1 'deny: introspection_unavailable' 'detail: status 307' -- \
  "$introspect" "$RUN/direct.json" "$opaque" "$own"
as_control /fail '{"status":0}' >"$RUN/log"

# Answers that a real server does not give.
peer_start peer
options peer "$ca$gateway,\"mtls_introspection_endpoint\":\"https://$peer/introspect\""
scripted() { # scripted NAME SCRIPT DETAIL
  peer_script "{\"/introspect\":$2}" >"$RUN/log"
  says "introspect: $1" 1 'deny: introspection_unavailable' "detail: $3" -- "$introspect" "$RUN/peer.json" "$opaque" "$own"
}
large='the answer is larger than 262144 bytes'
early='the answer is not HTTP, or ended early'
scripted "an answer that is too large" '{"json":{"active":true},"pad":1}' "$large"
scripted "an answer without end" '{"json":{"active":true},"pad":1,"chunked":true,"endless":true}' "$large"
scripted "an answer that ends early" \
  '[{"send":"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}"},{"close":true}]' "$early"
scripted "no HTTP" '[{"send":"SSH-2.0-OpenSSH_9.2\r\n"},{"close":true}]' "$early"
scripted "a compressed answer is not decompressed" '{"json":{"active":true},"gzip":true}' \
  'the response is not strict JSON: not UTF-8'

# Nothing is lost, whatever came of it.
memory "introspect, allowed" "$introspect" "$RUN/discovering.json" "$opaque" "$own"
memory "introspect, as text" "$introspect" "$RUN/text.json" "$opaque" "$own"
memory "introspect, another certificate" "$introspect" "$RUN/direct.json" "$opaque" "$pki/rsa.crt"
memory "introspect, a revoked token" "$introspect" "$RUN/direct.json" "$RUN/revoked.token" "$own"
memory "introspect, a JWT" "$introspect" "$RUN/jwt.json" "$jwt" "$own"

stop "$RUN/as.pid"
says "introspect: the server is gone" 1 "$introspection_fetch" 'deny: introspection_unavailable' 'detail: no connection' -- \
  "$introspect" "$RUN/direct.json" "$opaque" "$own"
says "introspect: so is its metadata" 1 'deny: metadata_unavailable' \
  "detail: $issuer/.well-known/openid-configuration: no connection" -- "$introspect" "$RUN/discovering.json" "$opaque" "$own"
memory "introspect, the server is gone" "$introspect" "$RUN/direct.json" "$opaque" "$own"
