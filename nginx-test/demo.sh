#!/usr/bin/env bash
# keybound in a real nginx, with tokens of a real authorization server. Needs: tools/setup.sh build nginx as; the built library.
#
#   demo.sh run    start, show what is let through and what is refused, stop; exit 0 only if all came out right
#   demo.sh up     start and leave it running, print curl lines to try
#   demo.sh down   stop what `up` started
# shellcheck disable=SC2016 # the backticks are JavaScript's
set -euo pipefail

case ${1-} in
  run) RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX") ;;
  up | down) RUN=$(cd "$(dirname "$0")" && pwd)/run ;;
  *) sed -n '2,6s/^# \?//p' "$0" >&2 && exit 2 ;;
esac
mkdir -p "$RUN"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

failed=0
node=$("$repo/tools/node.sh")
keybound=${KEYBOUND:-${CARGO_TARGET_DIR:-$repo/target}/release/keybound}

# The gateway as a client of the authorization server: it fetches the keys, and introspects opaque tokens over mutual TLS.
gateway='"client_id": "gateway", "client_auth": "tls_client_auth", "tls_client_auth_cert_id": "gateway",
  "client_certificates": {"gateway": {"certificate": "'$RUN'/pki/gateway.crt", "private_key": "'$RUN'/pki/gateway.key"}},
  "ssl_trusted_certificate": "'$RUN'/pki/ca.crt", "introspection_cache_ttl": 4'

# The same gateway logs users in, as another client, and keeps their sessions: app.json of nginx.conf.in
app() {
  cat <<APP
{"issuer": "$issuer", "audience_required": ["https://api.test"], "auth_methods": ["session", "authorization_code"],
 "client_id": "web", "client_auth": "tls_client_auth", "tls_client_auth_cert_id": "web",
 "client_certificates": {"web": {"certificate": "$pki/web.crt", "private_key": "$pki/web.key"}},
 "ssl_trusted_certificate": "$pki/ca.crt", "redirect_uri": "https://localhost:PORT/app/callback", "scopes": ["openid", "read"],
 "session_secret": "$(openssl rand -base64 32)", "session_bind_certificate": true, "session_storage": "store",
 "logout_uri_suffix": "/app/logout", "logout_revoke_access_token": false, "logout_redirect_uri": "https://localhost:PORT/app/logged-out"}
APP
}

# The same gateway for tokens that are bound to a key: dpop.json and nonce.json, with MORE members
dpop() {
  printf '{"issuer": "%s", "audience_required": ["https://api.test"], %s, "proof_of_possession_dpop": "strict",
    "public_origin": ["https://api.test:PORT", "https://localhost:PORT"]%s}\n' "$issuer" "$gateway" "${1-}"
}

# both: the servers, and where logins at the authorization server may end
both() {
  "$here/pki.sh" "$pki"
  as_start as
  app >"$RUN/app.json"
  dpop >"$RUN/dpop.json"
  dpop ", \"dpop_use_nonce\": true, \"dpop_nonce_secret\": \"$(openssl rand -base64 32)\"" >"$RUN/nonce.json"
  for name in phone thief; do
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$pki/$name-key.pem"
  done
  gateway_start "$gateway"
  site=https://localhost:${api##*:}
  as_control /redirect "{\"client_id\": \"web\", \"redirect_uris\": [\"$site/app/callback\"], \"post_logout_redirect_uris\": [\"$site/app/logged-out\"]}" >"$RUN/control.log"
}

# row NAME CERTIFICATE TOKEN STATUS [REASON]: one request, and whether it went as it must
row() { try "$1" "$api/${1// /-}" "$2" "Authorization: Bearer $3" "${@:4}"; }
# try NAME URL CERTIFICATE HEADER STATUS [REASON]
try() {
  local arguments
  mapfile -t arguments < <(with "$3")
  ask "$1" "$2" "$5" "${6-}" "${arguments[@]}" -H "$4"
}
# ask NAME URL STATUS REASON CURL_ARGUMENT...
ask() {
  local name=$1 path=/${2#https://*/} status challenge why result=ok
  status=$(fetch "${@:5}" -o "$RUN/body" -D "$RUN/head" -w '%{http_code}' "$2")
  challenge=$(tr -d '\r' <"$RUN/head" | sed -n 's/^www-authenticate: //Ip')
  why=$(reason "$path")
  [ "$status ${why:--}" = "$3 ${4:--}" ] || result=WRONG
  case $status:$challenge:$why in
    200::) reached || result=WRONG ;;
    401:DPoP*'error="invalid_token"'*:*_required | 401:DPoP*'error="invalid_token"'*:proof_key_mismatch) ;;
    401:DPoP*'error="use_dpop_nonce"'*:proof_nonce_*) ;;
    401:DPoP*'error="invalid_dpop_proof"'*:proof_*) ;;
    401:Bearer*'error="invalid_token"'*:*) ;;
    401:Bearer:session_expired) ;; # no token came
    *) result=WRONG ;;
  esac
  [ $result = ok ] || failed=1
  printf '%-5s  %-36s %-6s  %-28s  %s\n' "$result" "$name" "$status" "${why:--}" "${challenge:--}"
}

# reached: whether the answer is really from the API behind, which never sees a proof
reached() { grep -q "^[A-Z]* $path " "$RUN/body" && ! grep -qi -e '^dpop:' -e '^authorization: dpop' "$RUN/body"; }

run() {
  local own short unbound tampered payload cnf print expiry opaque
  both
  own=$(token client client)
  short=$(token client client https://api.test/short)
  unbound=$(token unbound -)
  payload=$(claims "$own")
  tampered=$(replace_claims "$own" "${payload/\"scope\":\"read\"/\"scope\":\"read write\"}")

  cnf=$(sed -n 's/.*"cnf":{"x5t#S256":"\([^"]*\)"}.*/\1/p' <<<"$payload")
  print=$(thumbprint client)
  printf 'cnf x5t#S256 in the token:            %s\nSHA-256 of the certificate (openssl): %s\n\n' "$cnf" "$print"
  [ "$cnf" = "$print" ] || failed=1

  printf '%-5s  %-36s %-6s  %-28s  %s\n' '' request status 'reason in the log' WWW-Authenticate
  row 'own certificate' client "$own" 200
  row 'no certificate' - "$own" 401 certificate_missing
  row 'stolen token, certificate of thief' thief "$own" 401 certificate_mismatch
  row 'unbound token' client "$unbound" 401 token_unbound
  row 'tampered token' client "$tampered" 401 signature_invalid
  expiry=$(claims "$short" | sed 's/.*"exp":\([0-9]*\).*/\1/')
  wait_until 10 "expiry of a token of 2 seconds" past "$expiry"
  row 'expired token' client "$short" 401 token_expired

  opaque=$(token client client https://api.test/opaque)
  printf '\nAn opaque token: the gateway asks the authorization server about it, and remembers the answer for 4 seconds\n'
  row 'opaque token, own certificate' client "$opaque" 200
  row 'opaque token, of thief' thief "$opaque" 401 certificate_mismatch
  revoke client client "$opaque"
  row 'revoked, still remembered' client "$opaque" 200
  sleep 5
  row 'revoked' client "$opaque" 401 token_inactive
  printf '\nWho asked, by the log of the authorization server:\n'
  asked_at introspection
  proofs
  logins

  [ $failed = 0 ] && printf '\nAll as expected.\n'
}

# proof KEY OPTION...: for the next request
proof() { "$keybound" proof --key "$pki/$1-key.pem" "${@:2}"; }
# key_token RESOURCE: a token that is bound to the phone's key, since the request for it has a proof
key_token() {
  fetch -u unbound:unbound-secret -H "DPoP: $(proof phone --method POST --url "$issuer/token")" "$issuer/token" \
    -d grant_type=client_credentials -d "resource=$1" -d scope=read | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}

proofs() {
  local token jkt print proof opaque hello=$api/dpop/hello nonce
  token=$(key_token https://api.test)
  jkt=$(claims "$token" | sed -n 's/.*"cnf":{"jkt":"\([^"]*\)"}.*/\1/p')
  print=$("$keybound" thumbprint "$pki/phone-key.pem")
  printf '\nNo certificate, but a key: a phone shows with each request that it has it, by a proof for that request (DPoP)\n'
  printf 'cnf jkt in the token: %s\nthumbprint of the key: %s\n\n' "$jkt" "$print"
  [ "$jkt" = "$print" ] || failed=1

  proof=$(proof phone --url "$hello" --token "$token")
  # The query, of which a proof says nothing, finds the request in the log.
  proved() { ask "$1" "${6-$hello}?${1// /-}" "$4" "${5-}" -H "Authorization: DPoP $2" -H "DPoP: $3" "${@:7}"; }
  proved 'own proof' "$token" "$proof" 200
  proved 'the same proof again' "$token" "$proof" 401 proof_replayed
  proved 'own proof, another method' "$token" "$(proof phone --url "$hello" --token "$token")" 401 proof_method_mismatch "$hello" -X POST
  proved 'own proof, another URL' "$token" "$(proof phone --url "$hello" --token "$token")" 401 proof_uri_mismatch "$api/dpop/other"
  proved 'own proof, a minute old' "$token" "$(proof phone --url "$hello" --token "$token" --at $(($(date +%s) - 62)))" 401 proof_expired
  proved 'stolen token, key of thief' "$token" "$(proof thief --url "$hello" --token "$token")" 401 proof_key_mismatch
  ask 'stolen token, no proof' "$hello" 401 proof_missing -H "Authorization: DPoP $token"
  ask 'stolen token, as Bearer' "$hello" 401 dpop_scheme_required -H "Authorization: Bearer $token"
  proved 'own proof of that method' "$token" "$(proof phone --method POST --url "$hello" --token "$token")" 200 '' "$hello" -X POST

  opaque=$(key_token https://api.test/opaque)
  proved 'opaque token, own proof' "$opaque" "$(proof phone --url "$hello" --token "$opaque")" 200
  proved 'opaque token, key of thief' "$opaque" "$(proof thief --url "$hello" --token "$opaque")" 401 proof_key_mismatch

  hello=$api/nonce/hello
  proved 'a gateway that asks for nonces' "$token" "$(proof phone --url "$hello" --token "$token")" 401 proof_nonce_missing
  nonce=$(tr -d '\r' <"$RUN/head" | sed -n 's/^dpop-nonce: //Ip')
  proved 'own proof with its nonce' "$token" "$(proof phone --url "$hello" --token "$token" --nonce "$nonce")" 200
}

logins() {
  local cookie hello=$site/app/hello
  printf '\nA user logs in, with her certificate: the gateway sends her browser to the authorization server, and exchanges the code itself\n'
  as_log_clear
  browser --user alice "$hello"
  went 'alice logs in' "200 $hello" login_completed
  cookie=$(of "$RUN/jar" 'it.find(({ name }) => name === "__Host-session").value')
  try 'her session' "$hello" client "Cookie: __Host-session=$cookie" 200
  try 'stolen cookie, no certificate' "$hello" - "Cookie: __Host-session=$cookie" 401 session_certificate_missing
  try 'stolen cookie, certificate of thief' "$hello" thief "Cookie: __Host-session=$cookie" 401 session_certificate_mismatch
  browser --fetch "$hello"
  went 'her session goes on' "200 $hello"
  browser --method POST --from "$hello" "$site/app/logout"
  went 'alice logs out' "200 $site/app/logged-out" logged_out
  try 'the cookie after that' "$hello" client "Cookie: __Host-session=$cookie" 401 session_expired
  printf '\nWhat the gateway asked for her:\n'
  asked_at ''
}

# browser OPTION... URL: see browser.mjs; the answer is in $RUN/browser.json, cookies in $RUN/jar
browser() {
  "$node" "$here/browser.mjs" --jar "$RUN/jar" --ca "$pki/roots.crt" --cert-for localhost --cert "$pki/client.crt" --key "$pki/client.key" "$@" \
    >"$RUN/browser.json" || failed=1
}
# of FILE EXPRESSION: what JavaScript says of `it`, the JSON in FILE
of() { "$node" -e 'const it = JSON.parse(require("fs").readFileSync(process.argv[1])); console.log(eval(process.argv[2]))' "$1" "$2"; }

# went NAME OUTCOME [REASON]: where the browser got, as it must, and by which way; what keybound answered last by itself
went() {
  local outcome why='' result=ok
  outcome=$(of "$RUN/browser.json" 'it.status + " " + it.url')
  [ -z "${3-}" ] || why=$(sed -n 's/.*keybound: answered, reason=\([a-z_]*\).*/\1/p' "$RUN/error.log" | tail -n 1)
  [ "$outcome $why" = "$2 ${3-}" ] || failed=1 result=WRONG
  printf '%-5s  %-36s %-6s  %s\n' "$result" "$1" "${outcome%% *}" "${why:--}"
  [ -z "$why" ] || hops
}

# hops: the requests of the browser, without what is secret in them
hops() {
  of "$RUN/browser.json" 'it.hops.map(({ method, url, status }) => {
    const { origin, pathname, search } = new URL(url);
    const path = pathname.replace(/[\w-]{40,}/, "...") + (search && "?...");
    return `           ${status} ${method.padEnd(4)} ${origin === "'"$site"'" ? "gateway" : "authorization server"} ${path}`;
  }).join("\n")'
}

as_log_clear() { as_control /log/clear '{}' >"$RUN/control.log"; }
# asked_at PART: the requests of the gateway that the server saw, where the path holds PART
asked_at() {
  as_log | "$node" -e '
    const log = JSON.parse(require("fs").readFileSync(0));
    for (const r of log.filter((r) => r.path.includes(process.argv[1]) && r.certificate && r.certificate.subject !== "CN=client"))
      console.log(`  ${r.path} ${r.grant_type ?? r.token_type_hint ?? ""}: ${r.port} port, client_id=${r.client_id}, certificate ${r.certificate.subject} ${r.certificate["x5t#S256"]}`);' "$1"
}
past() { [ "$(date +%s)" -gt "$1" ]; }

# On a failure the logs are the story.
end_of_run() {
  local status=$?
  if [ $status != 0 ]; then
    printf '\nFAILED.\n' >&2
    [ ! -e "$RUN/nginx.pid" ] || grep -v -e '\[info\]' -e '\[notice\]' "$RUN/error.log" >&2 || true
  fi
  stop_all
  rm -rf "$RUN"
}

up() {
  local q=\'
  if [ -s "$RUN/nginx.pid" ] && ours "$(<"$RUN/nginx.pid")"; then
    echo "Already up. 'demo.sh down' stops it; the lines to try are in $RUN/try.txt" >&2
    exit 1
  fi
  trap stop_all EXIT
  : >"$RUN/error.log"
  both
  trap - EXIT
  cat <<LINES | tee "$RUN/try.txt"
The gateway is $api, the authorization server is $issuer. To try them:

P='$pki'; api=https://localhost:${api##*:}; as=$issuer
mtls() { curl -s --cacert "\$P/ca.crt" --cert "\$P/\$1.crt" --key "\$P/\$1.key" "\${@:2}"; }

# a token for 'client', bound to its certificate; then what the token says
TOKEN=\$(mtls client \$as/token -d grant_type=client_credentials -d client_id=client -d scope=read -d resource=https://api.test | sed ${q}s/.*"access_token":"\([^"]*\)".*/\1/$q)
cut -d. -f2 <<<"\$TOKEN" | tr '_-' '/+' | base64 -d 2>/dev/null; echo

# an opaque token, likewise bound
OPAQUE=\$(mtls client \$as/token -d grant_type=client_credentials -d client_id=client -d scope=read -d resource=https://api.test/opaque | sed ${q}s/.*"access_token":"\([^"]*\)".*/\1/$q)
mtls client -i \$api/hello -H "Authorization: Bearer \$OPAQUE"
mtls thief -i \$api/hello -H "Authorization: Bearer \$OPAQUE"

# with its certificate; with none; with another's
mtls client -i \$api/hello -H "Authorization: Bearer \$TOKEN"
curl -s --cacert "\$P/ca.crt" -i \$api/hello -H "Authorization: Bearer \$TOKEN"
mtls thief -i \$api/hello -H "Authorization: Bearer \$TOKEN"

# a token that is bound to a key, and requests with proofs by that key; the same proof once more, and one by another key
proof() { '$keybound' proof --key "\$P/\$1-key.pem" "\${@:2}"; }
KEYTOKEN=\$(curl -s --cacert "\$P/ca.crt" -u unbound:unbound-secret -H "DPoP: \$(proof phone --method POST --url \$as/token)" \$as/token -d grant_type=client_credentials -d scope=read -d resource=https://api.test | sed ${q}s/.*"access_token":"\([^"]*\)".*/\1/$q)
PROOF=\$(proof phone --url \$api/dpop/hello --token "\$KEYTOKEN")
curl -s --cacert "\$P/ca.crt" -i \$api/dpop/hello -H "Authorization: DPoP \$KEYTOKEN" -H "DPoP: \$PROOF"
curl -s --cacert "\$P/ca.crt" -i \$api/dpop/hello -H "Authorization: DPoP \$KEYTOKEN" -H "DPoP: \$PROOF"
curl -s --cacert "\$P/ca.crt" -i \$api/dpop/hello -H "Authorization: DPoP \$KEYTOKEN" -H "DPoP: \$(proof thief --url \$api/dpop/hello --token "\$KEYTOKEN")"

# a login: in a browser (user alice, password alice-password), which needs the certificate; the CA is \$P/ca.crt
openssl pkcs12 -export -in \$P/client.crt -inkey \$P/client.key -passout pass:client -out \$P/client.p12   # to import, with the password 'client'
#   $site/app/hello
# or by a browser without a screen
login() { $node '$here/browser.mjs' --jar "\$P/jar" --ca "\$P/roots.crt" --cert-for localhost --cert "\$P/client.crt" --key "\$P/client.key" "\$@"; }
login --user alice $site/app/hello; echo

# the session without its certificate, with another one, and with its own
COOKIE=\$(sed -n '/"__Host-session"/{n;s/.*: "\(.*\)",/\1/p}' "\$P/jar")
curl -s --cacert "\$P/ca.crt" -i $site/app/hello -H "Cookie: __Host-session=\$COOKIE"
mtls thief -i $site/app/hello -H "Cookie: __Host-session=\$COOKIE"
mtls client -i $site/app/hello -H "Cookie: __Host-session=\$COOKIE"

# out again, and the cookie is worth nothing to anybody
login --method POST --from $site/app/hello $site/app/logout; echo
mtls client -i $site/app/hello -H "Cookie: __Host-session=\$COOKIE"

# what was counted
curl -s $metrics

# why
grep 'keybound: refused' '$RUN/error.log'
LINES
}

case $1 in
  run)
    trap end_of_run EXIT
    run
    ;;
  up) up ;;
  down) stop_all ;;
esac
