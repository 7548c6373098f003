#!/usr/bin/env bash
# The rock, as it comes to a node without Rust: made from this checkout, packed, installed into another tree, and loaded
# from there by nginx. Wants the library built, and LuaRocks, nginx and lua-resty-core (tools/setup.sh build nginx rock).
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
quietly() {
  "$@" >"$work/log" 2>&1 </dev/null || {
    cat "$work/log" >&2
    echo "rock: failed: $*" >&2
    exit 1
  }
}
rocks() { quietly luarocks --lua-version 5.1 --tree "$work/$1" "${@:2}"; }

make --no-print-directory --silent rockspec
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
rocks here make "keybound-$version-1.rockspec"
cd "$work"
rocks here pack keybound
rocks node install "$work"/keybound-"$version"-1.*.rock

# init_by_lua runs in nginx's master, before there are workers or listeners: there it ends.
cat >"$work/nginx.conf" <<CONF
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.log warn;
events {}
http {
  lua_package_path "$work/node/share/lua/5.1/?.lua;;";
  lua_package_cpath "$work/node/lib/lua/5.1/?.so;;";
  init_by_lua_block {
    local keybound = require "resty.keybound"
    local claims = require "kong.plugins.keybound.claims"
    local maps = io.open("/proc/self/maps"):read("*a")
    local library = maps:match("%S*/libkeybound%S*")
    local modules = { "resty.keybound", "kong.plugins.keybound.claims", "kong.plugins.keybound.handler", "kong.plugins.keybound.schema" }
    for i, name in ipairs(modules) do modules[i] = assert(package.searchpath(name, package.path)) end
    io.stdout:write(keybound._VERSION, "\n", claims.text(7), "\n", library, "\n", table.concat(modules, "\n"), "\n")
    io.stdout:flush()
    os.exit(0)
  }
}
CONF
nginx -p "$work" -c "$work/nginx.conf" -e "$work/nginx.log" >"$work/told" 2>"$work/stderr" </dev/null ||
  { cat "$work/stderr" >&2; exit 1; }
diff - "$work/told" <<TOLD
$version
7
$work/node/lib/lua/5.1/libkeybound.so
$work/node/share/lua/5.1/resty/keybound.lua
$work/node/share/lua/5.1/kong/plugins/keybound/claims.lua
$work/node/share/lua/5.1/kong/plugins/keybound/handler.lua
$work/node/share/lua/5.1/kong/plugins/keybound/schema.lua
TOLD
echo "The rock keybound $version-1 installs, and nginx loads it."
