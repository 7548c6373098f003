#!/usr/bin/env bash
# Builds the library, the C examples and the C tests, and runs them; one line for each check.
# Needs what tools/setup.sh test installs.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
include=$root/include
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
export LC_ALL=C RUST_BACKTRACE=0
unset KEYBOUND_PANIC
cd "$root"

passed=0
failed=0
good() { passed=$((passed + 1)) && printf 'ok   %s\n' "$1"; }
bad() { # bad NAME FILE: shows the file's beginning
  failed=$((failed + 1))
  printf 'FAIL %s\n' "$1"
  [ ! -e "$2" ] || sed -n '1,20s/^/     /p' "$2"
}

# check NAME COMMAND...: passes where the command succeeds
check() {
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1 </dev/null; then good "$name"; else bad "$name" "$work/log"; fi
}

# run_tests NAME COMMAND...: a program that prints a line for each of its tests, and exits 1 if one failed
run_tests() {
  local name=$1 status=0 expected=0
  shift
  "$@" >"$work/out" 2>"$work/log" </dev/null || status=$?
  sed "s/^\(ok  \|FAIL\) /\1 $name: /" "$work/out"
  passed=$((passed + $(grep -c '^ok ' "$work/out" || true)))
  failed=$((failed + $(grep -c '^FAIL ' "$work/out" || true)))
  ! grep -q '^FAIL ' "$work/out" || expected=1
  if [ "$status" = "$expected" ] && grep -q '^ok ' "$work/out"; then
    good "$name: ends as it must"
  else
    bad "$name: exit status $status, not $expected" "$work/log"
  fi
}

# memory NAME COMMAND...: no error and no leak under valgrind, whatever the program itself says
memory() {
  local name=$1 status=0
  shift
  rm -f "$work/valgrind"
  valgrind --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=99 --suppressions=tests/c/valgrind.supp \
    --log-file="$work/valgrind" "$@" >"$work/log" 2>&1 </dev/null || status=$?
  if [ "$status" -lt 99 ] && grep -q 'ERROR SUMMARY: 0 errors from 0 contexts' "$work/valgrind" &&
    ! grep -q '\(definitely\|indirectly\) lost: [1-9]' "$work/valgrind"; then
    good "$name: valgrind"
  else
    bad "$name: valgrind, exit status $status" "$work/valgrind"
  fi
}

# says NAME STATUS LINE... -- COMMAND...: exit status, and lines that the output must have; no claims where it is not 0
says() {
  local name=$1 expected=$2 status=0 lines=() line wrong=
  shift 2
  while [ "$1" != -- ]; do
    lines+=("$1")
    shift
  done
  shift
  "$@" >"$work/log" 2>&1 </dev/null || status=$?
  [ "$status" = "$expected" ] || wrong="exit status $status, not $expected"
  for line in "${lines[@]}"; do
    grep -qxF -- "$line" "$work/log" || wrong="${wrong:+$wrong; }no line: $line"
  done
  [ "$expected" = 0 ] || ! grep -q '"sub"' "$work/log" || wrong="${wrong:+$wrong; }claims of a refused token"
  if [ -z "$wrong" ]; then good "$name"; else bad "$name: $wrong" "$work/log"; fi
}

same() { diff "$1" "$2"; }
none() { ! grep . "$1"; }

build() {
  cargo build --release --locked --quiet "$@" >"$work/log" 2>&1 </dev/null || {
    cat "$work/log"
    echo "run.sh: the library does not build" >&2
    exit 1
  }
}
build
build --lib --features panic-injection --target-dir "$target/panic"

# Programs load it by its soname.
lib=$work/lib panic_lib=$work/panic-lib data=$work/data bin=$work/bin
mkdir "$lib" "$panic_lib" "$data" "$bin" "$work/next"
cp "$target/release/libkeybound.so" "$lib/libkeybound.so.1"
cp "$target/panic/release/libkeybound.so" "$panic_lib/libkeybound.so.1"
library=$lib/libkeybound.so.1

# The header: what it declares is what the library exports.
flags=(-O2 -g -Wall -Wextra -Werror -pedantic)
printf '#include <keybound.h>\nint keybound;\n' >"$work/header.c"
gcc -E -P "-I$include" "$work/header.c" >"$work/header.i"
grep -oE '\bkb_[a-z0-9_]+\(' "$work/header.i" | tr -d '(' | sort -u >"$work/declared"
nm -D --defined-only "$library" | awk '{print $3}' | sort >"$work/exported"
nm -D --defined-only "$panic_lib/libkeybound.so.1" | awk '{print $3}' | sort >"$work/panic-exported"
nm -D --defined-only "$library" | awk '$2 != "T"' >"$work/no-functions"
nm -D --undefined-only "$library" | grep -E ' (lua|SSL|X509|CRYPTO)[A-Z_]*_' >"$work/foreign" || true
check "the exported symbols are the header's functions" same "$work/declared" "$work/exported"
check "only functions are exported" none "$work/no-functions"
check "all symbols begin with kb_" test -z "$(grep -v '^kb_' "$work/exported")"
check "a function is declared once" gcc -std=c11 "${flags[@]}" -Wredundant-decls "-I$include" -c -o /dev/null "$work/header.c"
check "no undefined symbols of Lua or OpenSSL" none "$work/foreign"
readelf -d "$library" >"$work/dynamic"
check "the soname is libkeybound.so.1" grep -q 'SONAME.*\[libkeybound\.so\.1\]' "$work/dynamic"
check "the library stays mapped (nodelete)" grep -q NODELETE "$work/dynamic"
grep NEEDED "$work/dynamic" | grep -vE '\[(libc|libgcc_s|libm|libdl|libpthread|ld-linux[a-z0-9_-]*)\.so\.[0-9]+\]' >"$work/needed" || true
check "needs nothing but libc and libgcc" none "$work/needed"

# Compilers.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
defines=("-DKEYBOUND_VERSION=\"$version\"" "-DREASONS=$(grep -c '^| `' docs/reasons.md)")
read -ra curl_flags <<<"$(pkg-config --cflags libcurl)"
read -ra curl_libs <<<"$(pkg-config --libs libcurl)"
for std in c99 c11 c17 c2x; do
  for source in "$work/header.c" examples/c/{verify,decide,introspect}.c tests/c/{mint,abi,steps,panic,ssl,tls,login}.c; do
    check "${source##*/} as $std" \
      gcc -std=$std "${flags[@]}" "${defines[@]}" "-I$include" "${curl_flags[@]}" -c -o /dev/null "$source"
  done
done
for source in "$work/header.c" examples/c/{verify,decide,introspect}.c; do
  check "${source##*/} as C++17" g++ -x c++ -std=c++17 "${flags[@]}" "-I$include" "${curl_flags[@]}" -c -o /dev/null "$source"
done
sed 's/^#define KB_ABI_VERSION .*/#define KB_ABI_VERSION 2/' include/keybound.h >"$work/next/keybound.h"

link() { # link PROGRAM SOURCE LIBRARY...
  local program=$1
  shift
  check "links ${program#"$work"/}" \
    gcc -std=c99 "${flags[@]}" "${defines[@]}" -pthread "-I${headers:-$include}" -o "$program" "$@"
}
link "$bin/verify" examples/c/verify.c "$library"
link "$bin/decide" examples/c/decide.c "$library"
link "$bin/introspect" "${curl_flags[@]}" examples/c/introspect.c "$library" "${curl_libs[@]}"
link "$bin/login" "${curl_flags[@]}" tests/c/login.c "$library" "${curl_libs[@]}"
link "$bin/mint" tests/c/mint.c -lcrypto
link "$bin/abi" tests/c/abi.c "$library"
link "$bin/steps" tests/c/steps.c "$library"
link "$bin/ssl" tests/c/ssl.c "$library" -lssl -lcrypto
link "$bin/tls" tests/c/tls.c "$library" -lssl -lcrypto
link "$bin/panic" tests/c/panic.c "$panic_lib/libkeybound.so.1"
headers=$work/next link "$bin/verify-next" examples/c/verify.c "$library"
check "mints tokens and certificates" "$bin/mint" "$data"
export LD_LIBRARY_PATH=$lib

# The examples. The thumbprint is openssl's.
now=1700000000
x5t=$(openssl x509 -in "$data/client.pem" -outform der | openssl dgst -sha256 -binary | openssl base64 | tr '+/' '-_' | tr -d =) || true
claims='{"iss":"https://as.example","aud":"https://api.example","sub":"alice","client_id":"app","jti":"j1",'
claims+='"iat":1700000000,"exp":1700001800,"cnf":{"x5t#S256":"'$x5t'"}}'
config=$data/config.json
warning='warning: key 1 (kid "symmetric") skipped: "k" belongs to a private or symmetric key'
removed=('removed from the request: X-Client-Id' 'removed from the request: X-Absent')
refused=('HTTP 401' 'WWW-Authenticate: Bearer error="invalid_token"'
  'Content-Type: application/json; charset=utf-8' '{"message":"Unauthorized"}')
row() { # row TOKEN CERTIFICATE REASON
  local cert=$data/$2
  [ "$2" != - ] || cert=-
  if [ "$3" = allowed ]; then
    says "verify: $1, $2: $3" 0 "$3" "$claims" -- "$bin/verify" "$config" "$data/$1.token" "$cert" "$now"
    says "decide: $1, $2: $3" 0 "$3" "$claims" "$warning" "${removed[@]}" 'X-Client-Id: app' 'X-Absent is not sent' -- \
      "$bin/decide" "$config" "$data/$1.header" "$cert" "$now"
  else
    says "verify: $1, $2: $3" 1 "$3" -- "$bin/verify" "$config" "$data/$1.token" "$cert" "$now"
    says "decide: $1, $2: $3" 1 "$3" "$warning" "${removed[@]}" "${refused[@]}" -- \
      "$bin/decide" "$config" "$data/$1.header" "$cert" "$now"
  fi
}
row allow client.pem allowed
row allow client.der allowed
row allow other.pem certificate_mismatch
row allow other.der certificate_mismatch
row allow - certificate_missing
row expired client.pem token_expired
row tampered client.pem signature_invalid
row forged client.pem signature_invalid
row unbound client.pem token_unbound
report=("$bin/decide" "$data/report.json" "$data/allow.header")
reports='warning: report_only is true: nothing is refused; what would be refused is logged and counted, and passes'
says "decide: report_only, allowed" 0 allowed "$claims" "$reports" 'removed from the request: X-Client-Id' 'X-Client-Id: app' \
  'authorization is not sent' 'to the client: X-Sub: alice' -- "${report[@]}" "$data/client.pem" $now
says "decide: report_only, another certificate passes" 0 certificate_mismatch 'removed from the request: X-Client-Id' -- \
  "${report[@]}" "$data/other.pem" $now
check "decide: a report has no claims and no headers" test -z "$(grep -E '"sub"|X-Client-Id: |X-Sub|is not sent|HTTP' "$work/log")"
memory "decide, reported" "${report[@]}" "$data/other.pem" $now
printf 'Basic x\n' >"$data/basic.header"
says "verify: without a time it is now" 1 token_expired -- "$bin/verify" "$config" "$data/allow.token" "$data/client.pem"
says "decide: without a time it is now" 1 token_expired -- "$bin/decide" "$config" "$data/allow.header" "$data/client.pem"
says "decide: another scheme" 1 no_token 'HTTP 401' 'WWW-Authenticate: Bearer' -- "$bin/decide" "$config" "$data/basic.header" - $now
printf '{"issuer":"https://as.example","audience_required":["https://api.example"]}' >"$data/discover.json"
says "decide: keys that would have to be fetched" 1 keys_unavailable 'HTTP 503' 'Retry-After: 5' \
  'not fetched: https://as.example/.well-known/openid-configuration' -- \
  "$bin/decide" "$data/discover.json" "$data/allow.header" "$data/client.pem" $now

secret=0123456789abcdef0123456789abcdef
printf '{"issuer":"https://as.example","audience_required":["https://api.example"],"auth_methods":["session","bearer"],
  "session_secret":"%s","store_secret":"%s"}' $secret $secret >"$data/sessions.json"
says "decide: sessions, which it has no HTTP for" 2 'sessions, logins and grants need more of a host than this one has' -- \
  "$bin/decide" "$data/sessions.json" "$data/allow.header" "$data/client.pem" $now

printf '{"issuer":"https://as.example","isuer":1}' >"$data/refused.json"
head -c 600000 /dev/zero >"$data/large"
for program in verify decide; do
  extension=token
  [ $program = verify ] || extension=header
  ok=("$bin/$program" "$config" "$data/allow.$extension" "$data/client.pem" "$now")
  says "$program: no arguments" 2 -- "${ok[0]}"
  says "$program: too many arguments" 2 -- "${ok[@]}" more
  says "$program: a refused configuration" 2 \
    "$data/refused.json: the configuration is refused: isuer: unknown option; did you mean issuer?" -- \
    "${ok[0]}" "$data/refused.json" "${ok[@]:2}"
  says "$program: no such configuration" 2 "$data/none: No such file or directory" -- "${ok[0]}" "$data/none" "${ok[@]:2}"
  says "$program: a directory for a token" 2 "$data: cannot be read" -- "${ok[@]:0:2}" "$data" "${ok[@]:3}"
  large=$data/large
  says "$program: a configuration too large to read" 2 "$large: larger than 524288 bytes" -- "${ok[0]}" "$large" "${ok[@]:2}"
  says "$program: a token too large to read" 2 "$large: larger than 16384 bytes" -- "${ok[@]:0:2}" "$large" "${ok[@]:3}"
  says "$program: a certificate too large to read" 2 "$large: larger than 32768 bytes" -- "${ok[@]:0:3}" "$large" "$now"
  says "$program: no time" 2 "soon: not a Unix time" -- "${ok[@]:0:4}" soon
  memory "$program, allowed" "${ok[@]}"
  memory "$program, refused" "${ok[@]:0:3}" - "$now"
  memory "$program, a refused configuration" "${ok[0]}" "$data/refused.json" "${ok[@]:2}"
done
says "verify: another ABI" 2 "libkeybound $version has another ABI than keybound.h" -- \
  "$bin/verify-next" "$config" "$data/allow.token" "$data/client.pem" $now

# Every function from C. The ordinary library knows nothing of the variable that makes the other one panic.
called() { for program; do nm -D --undefined-only "$program" || true; done | awk '$2 ~ /^kb_/ {print $2}' | sort -u; }
called "$bin/abi" "$bin/steps" >"$work/called"
check "abi and steps call every function" same "$work/exported" "$work/called"
for program in abi steps; do
  run_tests $program "$bin/$program" "$data"
  memory $program "$bin/$program" "$data"
done
says "KEYBOUND_PANIC means nothing to the ordinary library" 0 allowed -- \
  env KEYBOUND_PANIC=1 "$bin/verify" "$config" "$data/allow.token" "$data/client.pem" $now

# Connections of OpenSSL.
run_tests ssl "$bin/ssl"
memory ssl "$bin/ssl"

# Servers. The certificates are those of the tests of the module.
check "makes the certificates of servers" nginx-test/pki.sh "$data/pki"
run_tests tls "$bin/tls" "$data/pki"
memory tls "$bin/tls" "$data/pki"

# Panics.
{ LD_LIBRARY_PATH=$panic_lib "$bin/panic" --list || true; } | sort >"$work/listed"
called "$bin/panic" >"$work/called"
check "the library that panics has the same exports" same "$work/exported" "$work/panic-exported"
check "panic tries every function" same "$work/exported" "$work/listed"
check "panic calls every function" same "$work/exported" "$work/called"
LD_LIBRARY_PATH=$panic_lib run_tests panic "$bin/panic" "$data"

. tests/c/live.sh

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
