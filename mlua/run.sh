#!/usr/bin/env bash
# Builds the Lua module for LuaJIT and for Lua 5.4, and runs test.lua with both.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
for interpreter in "${LUAJIT:=luajit}" "${LUA54:=lua5.4}"; do
  command -v "$interpreter" >/dev/null || {
    echo "mlua: $interpreter is missing: apt-get install luajit2 lua5.4" >&2
    exit 1
  }
done

passed=0
failed=0
run() { # run FEATURE INTERPRETER
  local module=$work/$1/keybound.so
  mkdir "${module%/*}"
  cargo build --quiet --release --locked -p keybound-mlua --no-default-features --features "$1" </dev/null
  cp "$target/libkeybound_mlua.so" "$module"
  echo "== $2"
  # A crash leaves no last line, and counts as a failure.
  local status=0
  LUA_PATH=';;' LUA_CPATH="$work/$1/?.so" "$2" test.lua </dev/null 2>&1 | tee "$work/log" || status=$?
  local last
  last=$(tail -n 1 "$work/log")
  if [[ $last =~ ^([0-9]+)' passed, '([0-9]+)' failed'$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
    [ "$status" = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || failed=$((failed + 1))
  else
    failed=$((failed + 1))
  fi
}

target=$(cargo metadata --format-version 1 --no-deps --offline </dev/null | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)/release
# The same file twice: built for one Lua, copied, built for the other.
run luajit "$LUAJIT"
run lua54 "$LUA54"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
