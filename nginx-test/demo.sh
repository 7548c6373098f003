#!/usr/bin/env bash
# keybound in a real nginx, with tokens of a real authorization server. Needs: tools/setup.sh build nginx as; the built library.
#
#   demo.sh run    start, show what is let through and what is refused, stop; exit 0 only if all came out right
#   demo.sh up     start and leave it running, print curl lines to try
#   demo.sh down   stop what `up` started
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

# The gateway as a client of the authorization server: it fetches the keys, and introspects opaque tokens over mutual TLS.
gateway='"client_id": "gateway", "client_auth": "tls_client_auth", "tls_client_auth_cert_id": "gateway",
  "client_certificates": {"gateway": {"certificate": "'$RUN'/pki/gateway.crt", "private_key": "'$RUN'/pki/gateway.key"}},
  "ssl_trusted_certificate": "'$RUN'/pki/ca.crt", "introspection_cache_ttl": 4'

# row NAME CERTIFICATE TOKEN STATUS [REASON]: one request, and whether it went as it must
row() {
  local name=$1 token=$3 arguments path="/${1// /-}" status challenge why result=ok
  mapfile -t arguments < <(with "$2")
  status=$(fetch "${arguments[@]}" -H "Authorization: Bearer $token" -o "$RUN/body" -D "$RUN/head" -w '%{http_code}' "$api$path")
  challenge=$(tr -d '\r' <"$RUN/head" | sed -n 's/^www-authenticate: //Ip')
  why=$(reason "$path")
  [ "$status ${why:--}" = "$4 ${5:--}" ] || result=WRONG
  case $status:$challenge in
    200:) grep -q "^GET $path " "$RUN/body" || result=WRONG ;; # really from the API behind
    401:Bearer*'error="invalid_token"'*) ;;
    *) result=WRONG ;;
  esac
  [ $result = ok ] || failed=1
  printf '%-5s  %-34s %-6s  %-20s  %s\n' "$result" "$name" "$status" "${why:--}" "${challenge:--}"
}

run() {
  local own short unbound tampered payload cnf print expiry opaque
  start "$gateway"
  own=$(token client client)
  short=$(token client client https://api.test/short)
  unbound=$(token unbound -)
  payload=$(claims "$own")
  tampered=$(replace_claims "$own" "${payload/\"scope\":\"read\"/\"scope\":\"read write\"}")

  cnf=$(sed -n 's/.*"cnf":{"x5t#S256":"\([^"]*\)"}.*/\1/p' <<<"$payload")
  print=$(thumbprint client)
  printf 'cnf x5t#S256 in the token:            %s\nSHA-256 of the certificate (openssl): %s\n\n' "$cnf" "$print"
  [ "$cnf" = "$print" ] || failed=1

  printf '%-5s  %-34s %-6s  %-20s  %s\n' '' request status 'reason in the log' WWW-Authenticate
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
  introspections

  [ $failed = 0 ] && printf '\nAll as expected.\n'
}
# introspections: client and certificate of each introspection that the server saw
introspections() {
  as_log | "$("$repo/tools/node.sh")" -e '
    const log = JSON.parse(require("fs").readFileSync(0));
    for (const r of log.filter((r) => r.path === "/token/introspection"))
      console.log(`  ${r.port} port, client_id=${r.client_id}, certificate ${r.certificate?.subject} ${r.certificate?.["x5t#S256"]}`);'
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
  start "$gateway"
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
