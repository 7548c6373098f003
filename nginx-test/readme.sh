#!/usr/bin/env bash
# The OpenResty example of README.md, pasted into a real nginx: only names of files, hosts and ports are filled in.
set -euo pipefail

RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
KEYBOUND_CONF=$RUN/template
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT

# The example stands in http { } with the Lua paths of this tree, before the API of the demo.
example=$(sed -n '/^```nginx$/,/^```$/p' "$repo/README.md" | sed '1d;$d')
{
  sed '/^  init_by_lua_block/,$d' "$here/nginx.conf.in"
  sed -e 's|/etc/nginx/jwks.json|@RUN@/jwks.json|' -e 's|https://api.example.com|https://api.test|' -e 's|listen 443|listen 127.0.0.1:@PORT@|' \
    -e 's|server\.crt|@RUN@/pki/server.crt|' -e 's|server\.key|@RUN@/pki/server.key|' -e 's|127.0.0.1:8080|127.0.0.1:@UPSTREAM_PORT@|' <<<"$example"
  sed -n '/^  # The API behind/,$p' "$here/nginx.conf.in"
} >"$KEYBOUND_CONF"

"$here/pki.sh" "$pki"
as_start
sed -i "s|https://as.example.com|$issuer|" "$KEYBOUND_CONF"
gateway_start

bearer=$(token client client)
failed=0
expect() { # STATUS CERTIFICATE
  local arguments status
  mapfile -t arguments < <(with "$2")
  status=$(fetch "${arguments[@]}" -H "Authorization: Bearer $bearer" -o /dev/null -w '%{http_code}' "$api/")
  [ "$status" = "$1" ] || { failed=1; echo "README example, certificate $2: $status instead of $1" >&2; }
}
expect 200 client
expect 401 thief
expect 401 -
[ $failed = 0 ] && echo 'The example of README.md works as pasted.'
exit $failed
