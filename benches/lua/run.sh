#!/usr/bin/env bash
# `make bench`: what one hot check costs from Lua in a real nginx, in nanoseconds. Needs what the demo needs.
set -euo pipefail

RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
KEYBOUND_CONF=$(cd "$(dirname "$0")" && pwd)/nginx.conf.in
# shellcheck source-path=SCRIPTDIR source=../../nginx-test/lib.sh
. "$(dirname "$0")/../../nginx-test/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT

start '"proof_of_possession_mtls": "strict"'
bearer=$(token client client)
mapfile -t own < <(with client)
for mode in jit nojit; do
  printf 'hot check from Lua, %s\n' "$mode"
  fetch --max-time 120 "${own[@]}" -H "Authorization: Bearer $bearer" "$api/$mode"
done
