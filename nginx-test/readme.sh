#!/usr/bin/env bash
# The examples of README.md for nginx, pasted into a real one: only names of files, hosts and ports are filled in. The first is of the module, the
# second of Lua.
set -euo pipefail

RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
KEYBOUND_CONF=$RUN/template
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT

"$here/pki.sh" "$pki"
as_start

# example N: the Nth one
example() { awk -v n="$1" '$0 == "```" { inside = 0 } inside { print } $0 == "```nginx" && ++i == n { inside = 1 }' "$repo/README.md"; }
filled() {
  sed -e 's|/etc/nginx/jwks.json|@RUN@/jwks.json|' -e 's|https://api.example.com|https://api.test|' -e "s|https://as.example.com|$issuer|" \
    -e 's|listen 443|listen 127.0.0.1:@PORT@|' -e 's|server\.crt|@RUN@/pki/server.crt|' -e 's|server\.key|@RUN@/pki/server.key|' \
    -e 's|127.0.0.1:8080|127.0.0.1:@UPSTREAM_PORT@|'
}

failed=0
expect() { # STATUS CERTIFICATE
  local arguments status
  mapfile -t arguments < <(with "$2")
  status=$(fetch "${arguments[@]}" -H "Authorization: Bearer $bearer" -o /dev/null -w '%{http_code}' "$api/")
  [ "$status" = "$1" ] || { failed=1; echo "README, the example for $name, certificate $2: $status instead of $1" >&2; }
}

bearer=$(token client client)
n=0
for name in 'the module' Lua; do
  # It stands in http { } with the Lua paths of this tree, before the API of the demo. The JSON that the first one tells of in its comment is
  # what gateway_start writes.
  {
    echo "load_module $KEYBOUND_MODULE;"
    sed '/^  init_by_lua_block/,$d' "$here/nginx.conf.in"
    example $((n += 1)) | filled
    sed -n '/^  # The API behind/,$p' "$here/nginx.conf.in"
  } >"$KEYBOUND_CONF"
  gateway_start
  expect 200 client
  expect 401 thief
  expect 401 -
  stop "$RUN/nginx.pid"
done
[ $failed = 0 ] && echo 'The examples of README.md work as pasted.'
exit $failed
