#!/usr/bin/env bash
# What a worker's memory comes to: requests with distinct tokens, all good, through one worker with small caches. Between the first
# fifth of them and the last it must not grow by more than the margin: the caches are full by then.
#
#   memory.sh [lua|module] [REQUESTS]   of each kind, JWTs and introspected tokens; default 100000
set -euo pipefail

host=lua
case ${1-} in lua | module) host=$1 && shift ;; esac
RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
here=$(cd "$(dirname "$0")" && pwd)
KEYBOUND_CONF=$here/module.conf.in
[ "$host" = module ] || KEYBOUND_CONF=$here/memory.conf.in
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT

requests=${1:-100000}
margin=4096 # KiB
node=$("$repo/tools/node.sh")

"$here/pki.sh" "$pki"
issuer_start
# 1024 tokens in 1 MiB, and 1 MiB that the workers share.
gateway_start "$issuer_options, \"token_cache_entries\": 1024, \"token_cache_bytes\": 1048576"
worker=$(children "$(<"$RUN/nginx.pid")")
worker=${worker% }
# ask KIND FROM TO: that each request passes
ask() {
  local answers
  answers=$("$node" "$here/tokens.mjs" "$1" "$2" "$3" "${api##*:}" "$pki" "$issuer")
  [ "$answers" = "200: $(($3 - $2))" ] || {
    echo "$1: of $(($3 - $2)) requests: $answers" >&2
    tail -n 5 "$RUN/error.log" >&2
    return 1
  }
}

printf '%s: resident memory of the worker, KiB: %d at the start\n' "$host" "$(resident "$worker")"
failed=0
for kind in jwt opaque; do
  begun=$SECONDS
  ask "$kind" 0 $((requests / 5))
  before=$(resident "$worker")
  ask "$kind" $((requests / 5)) "$requests"
  after=$(resident "$worker")
  printf '%s: %d after %d requests, %d after %d: %+d, in %d s\n' "$kind" "$before" $((requests / 5)) "$after" "$requests" \
    $((after - before)) $((SECONDS - begun))
  if ((after - before > margin)); then
    echo "$kind: that is more than $margin KiB" >&2
    failed=1
  fi
done
exit $failed
