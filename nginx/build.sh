#!/usr/bin/env bash
# Builds the nginx module as target/nginx/ngx_http_keybound_module.so, for the nginx of Debian's package nginx-dev, or from a source tree of nginx.
#
#   build.sh [NGINX-SOURCE [CONFIGURE-ARGUMENT...]]
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
source=${1:-/usr/share/nginx/src}
flags=("${@:2}")
work=$target/nginx
export KEYBOUND_INCLUDE=$root/include KEYBOUND_LIB=$target/release

[ -x "$source/configure" ] || {
  echo "build.sh: $source has no configure: install nginx-dev, or name a source tree of nginx" >&2
  exit 1
}
[ -r "$KEYBOUND_LIB/libkeybound.so" ] || {
  echo "build.sh: $KEYBOUND_LIB/libkeybound.so is not there: run cargo build --release" >&2
  exit 1
}
if [ $# -lt 2 ]; then
  NGX_CONF_FLAGS=(--with-compat --with-http_ssl_module --with-http_v2_module)
  # shellcheck disable=SC1091
  [ ! -r "$source/conf_flags" ] || . "$source/conf_flags"
  flags=("${NGX_CONF_FLAGS[@]}")
fi

# configure writes beside itself.
rm -rf "$work/source"
mkdir -p "$work/objs"
cp -rs "$source" "$work/source"
{
  cd "$work/source"
  ./configure --builddir="$work/objs" "${flags[@]}" --with-cc-opt="-g -O2 -fstack-protector-strong ${CFLAGS:-}" --with-ld-opt="-Wl,-z,relro,-z,now ${LDFLAGS:-}" \
    --add-dynamic-module="$root/nginx"
  make -f "$work/objs/Makefile" modules
} >"$work/log" 2>&1 || {
  cat "$work/log" >&2
  exit 1
}
# Not in place: an nginx may have it mapped.
install -m 755 "$work/objs/ngx_http_keybound_module.so" "$work/"
