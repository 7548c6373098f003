#!/usr/bin/env bash
# `make bench`: the hot call from C. Nanoseconds, and the instructions by callgrind: the figure that repeats on a noisy machine.
# Needs target/release/libkeybound.so and what `cargo bench --bench check` wrote into target/bench.
set -euo pipefail

cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
trap 'rm -rf "$work"' EXIT
ln -s "$PWD/target/release/libkeybound.so" "$work/libkeybound.so.1"
cc -O2 -std=c99 -Wall -Wextra -Werror -Iinclude -o "$work/hot" benches/hot.c target/release/libkeybound.so
export LD_LIBRARY_PATH=$work

# instructions CONFIG CALLS: of all calls together
instructions() {
  valgrind --tool=callgrind --toggle-collect=kb_engine_decide --callgrind-out-file=/dev/null \
    "$work/hot" "$1" target/bench/authorization target/bench/client.der "$2" 2>&1 |
    sed -n 's/.*Collected : //p'
}

printf 'hot check from C: keys, nanoseconds, instructions\n'
for keys in 1 10 64; do
  config=target/bench/config-$keys.json
  ns=$("$work/hot" "$config" target/bench/authorization target/bench/client.der 200000)
  # The first call is cold: the difference of two runs is hot calls only. The program makes 20 rounds.
  few=$(instructions "$config" 10)
  many=$(instructions "$config" 60)
  printf '%4d keys %8s ns %8d instructions\n' "$keys" "$ns" $(((many - few) / 50 / 20))
done
