#!/usr/bin/env bash
# `make bench`: what a check costs end to end, module and Lua side by side in one nginx worker on processor 0, the load
# generator on processor 1. Wants the library, the nginx module (make nginx-module) and what the demo needs.
#
#   ROUNDS, SLICE_MS   how long: by default 40 rounds with 19 slices of 100 ms
set -euo pipefail

cd "$(dirname "$0")/../.."
RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
KEYBOUND_CONF=$PWD/benches/load/nginx.conf.in
# shellcheck source-path=SCRIPTDIR source=../../nginx-test/lib.sh
. nginx-test/lib.sh
trap 'stop_all; rm -rf "$RUN"' EXIT
trap 'exit 130' INT TERM

taskset -c 0,1 true || {
  echo 'bench: processors 0 and 1 are needed: one for nginx, one for the load' >&2
  exit 1
}
cargo build --quiet --release --locked -p keybound-load
load=$KEYBOUND_LIB/keybound-load
built=${KEYBOUND_LIB%/*}/nginx # by nginx/build.sh
includes=("$built/objs" "$built"/source/src/{core,event,event/modules,os/unix,http,http/modules,http/v2})
cc -O2 -Wall -Wextra -Wno-unused-parameter -Werror -fPIC -shared "${includes[@]/#/-I}" -o "$RUN/raw.so" benches/load/raw.c \
  "$KEYBOUND_LIB/libkeybound_load.a" -Wl,--exclude-libs,ALL -lgcc_s

"$here/pki.sh" "$pki"
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$pki/bench.key"
openssl req -x509 -new -key "$pki/bench.key" -subj /CN=bench -days 2 -addext 'subjectAltName = DNS:*.bench.test' \
  -addext 'basicConstraints = critical, CA:FALSE' -out "$pki/bench.crt"
# The module loads the library by its soname, and Lua by its name: the same file.
ln -s "$KEYBOUND_LIB/libkeybound.so" "$RUN/libkeybound.so.1"
export LD_LIBRARY_PATH=$RUN
issuer=https://as.test # that of the tokens which the generator makes
"$load" jwks >"$RUN/jwks.json"
gateway_start
taskset -c 1 "$load" run "${api##*:}" "$pki" || {
  tail -n 20 "$RUN/error.log" >&2
  exit 1
}
