#!/usr/bin/env bash
# Runs the tests in nginx, of the Lua module, of the Kong plugin and of the nginx module: the whole of t/, or the files that are named. The library and the
# nginx module must be built.
#
#   KEYBOUND_LUA, KEYBOUND_LIB, KEYBOUND_MODULE   where resty/keybound.lua and libkeybound.so are, and what ngx_http_keybound_module.so is, when not in this
#   tree
set -euo pipefail

cd "$(dirname "$0")/.."
: "${KEYBOUND_LIB:=${CARGO_TARGET_DIR:-$PWD/target}/release}"
export KEYBOUND_LIB
if [ ! -r "$KEYBOUND_LIB/libkeybound.so" ]; then
  echo "$KEYBOUND_LIB/libkeybound.so is not there: run cargo build --release" >&2
  exit 1
fi
# What a shell at work may have set for other tests. Ports and directories are chosen by t/lib/Keybound.pm.
unset "${!TEST_NGINX_@}"
[ $# -gt 0 ] || set -- t/*.t
exec prove -I t/lib "$@" </dev/null
