#!/usr/bin/env bash
# Prints the path of a Node that the tests' authorization server runs on: the machine's own, or the one that setup.sh got.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
for node in "$(command -v node || true)" "$root/nginx-test/node/node_modules/.bin/node"; do
  # What oidc-provider calls and Node 18 lacks.
  if [ -x "$node" ] && "$node" -e 'process.exit(URL.parse && require("crypto").hash ? 0 : 1)'; then
    echo "$node"
    exit
  fi
done
echo "no Node.js 20 or newer: run tools/setup.sh as" >&2
exit 1
