#!/usr/bin/env bash
# What a worker's memory comes to: requests with distinct tokens, all good, through one worker with small caches. Between the first
# fifth of them and the last it must not grow by more than the margin: the caches are full by then.
#
#   memory.sh [REQUESTS]   of each kind, JWTs and introspected tokens; default 100000
set -euo pipefail

RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
KEYBOUND_CONF=$(cd "$(dirname "$0")" && pwd)/memory.conf.in
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT

requests=${1:-100000}
margin=4096 # KiB
node=$("$repo/tools/node.sh")

"$here/pki.sh" "$pki"
peer_start peer
issuer=https://$peer
jwks=$("$node" "$here/memory.mjs" jwks "$pki")
thumbprint=$(thumbprint client)
exp=$(($(date +%s) + 3600))
peer_script "{
  \"/jwks\": {\"json\": $jwks},
  \"/introspect\": {\"json\": {\"active\": true, \"aud\": \"https://api.test\", \"exp\": $exp, \"cnf\": {\"x5t#S256\": \"$thumbprint\"}}}
}" >"$RUN/answer"
# 1024 tokens in 1 MiB, and 1 MiB that the workers share.
gateway_start "\"jwks_uri\": \"$issuer/jwks\", \"introspection_endpoint\": \"$issuer/introspect\", \"client_id\": \"gateway\",
  \"client_secret\": \"gateway-secret\", \"client_auth\": \"client_secret_basic\", \"ssl_trusted_certificate\": \"$pki/ca.crt\",
  \"token_cache_entries\": 1024, \"token_cache_bytes\": 1048576"
worker=$(tr -d ' ' <"/proc/$(<"$RUN/nginx.pid")/task/$(<"$RUN/nginx.pid")/children")
resident() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$worker/status"; }
# ask KIND FROM TO: that each request passes
ask() {
  local answers
  answers=$("$node" "$here/memory.mjs" "$1" "$2" "$3" "${api##*:}" "$pki" "$issuer")
  [ "$answers" = "200: $(($3 - $2))" ] || {
    echo "$1: of $(($3 - $2)) requests: $answers" >&2
    tail -n 5 "$RUN/error.log" >&2
    return 1
  }
}

printf 'resident memory of the worker, KiB: %d at the start\n' "$(resident)"
failed=0
for kind in jwt opaque; do
  begun=$SECONDS
  ask "$kind" 0 $((requests / 5))
  before=$(resident)
  ask "$kind" $((requests / 5)) "$requests"
  after=$(resident)
  printf '%s: %d after %d requests, %d after %d: %+d, in %d s\n' "$kind" "$before" $((requests / 5)) "$after" "$requests" \
    $((after - before)) $((SECONDS - begun))
  if ((after - before > margin)); then
    echo "$kind: that is more than $margin KiB" >&2
    failed=1
  fi
done
exit $failed
