#!/usr/bin/env bash
# The tests of the nginx module, with a check of its memory or another nginx: all of them, or the files that are named.
#
#   checked.sh address [FILE...]    nginx and the module from source, with AddressSanitizer, LeakSanitizer and no pools of memory
#   checked.sh newer [FILE...]      nginx and the module from the newer source, where nginx's API is another one
#   checked.sh valgrind [FILE...]   Debian's nginx under valgrind: Test::Nginx's own mode for it
#
# Under valgrind 310 to 314 take three minutes, and all ten; those that wait for reloads want an idle machine.
# Needs what tools/setup.sh test installs; libkeybound must be built, and for `valgrind` the module.
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
export KEYBOUND_LIB=${KEYBOUND_LIB:-$target/release}
mode=${1-}
[ $# = 0 ] || shift
case $mode in
  address | newer | valgrind) ;;
  *)
    echo 'usage: checked.sh address|newer|valgrind [FILE...]' >&2
    exit 2
    ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -m 777 "$work/reports" # workers that are not root write there, too

# from_source SOURCE NAME [OPTION...]: nginx and the module, in target/NAME; nginx once, the module each time
from_source() {
  local source=$target/nginx-source/$1 objects=$target/$2
  [ -e "$source/configure" ] || source=$root/target/nginx-source/$1
  shift 2
  mkdir -p "$objects"
  rm -rf "$objects/addon/nginx/"*.o
  {
    cd "$source" &&
      { [ "$objects/Makefile" -nt "$root/nginx/config" ] && [ "$objects/Makefile" -nt "$root/t/checked.sh" ] ||
        ./configure --builddir="$objects" --add-dynamic-module="$root/nginx" --with-compat --with-debug --with-pcre-jit \
          --with-threads --with-http_ssl_module --with-http_v2_module --with-http_auth_request_module --with-http_realip_module \
          --with-http_stub_status_module "$@"; } &&
      make -f "$objects/Makefile" -j2 binary modules &&
      cd "$root"
  } >"$work/log" 2>&1 </dev/null || {
    tail -n 40 "$work/log" >&2
    echo "checked.sh: $source does not build with the module" >&2
    exit 1
  }
  export TEST_NGINX_BINARY=$objects/nginx KEYBOUND_MODULE=$objects/ngx_http_keybound_module.so
}

unset "${!TEST_NGINX_@}"
case $mode in
  address)
    # Each allocation by itself, not in nginx's pools: else what is read behind its end, or after it was given back, is not seen.
    mkdir -p "$target/nginx-address"
    gcc -O2 -fPIC -Wall -Wextra -Werror -c -o "$target/nginx-address/asan.o" t/asan.c
    from_source "nginx-$(/usr/sbin/nginx -v 2>&1 | sed 's|.*/||')" nginx-address \
      --with-cc-opt='-O1 -g -fno-omit-frame-pointer -fsanitize=address -DNGX_DEBUG_PALLOC=1' \
      --with-ld-opt="-fsanitize=address $target/nginx-address/asan.o"
    # What only tests its configuration ends as it is; all else gives back what it has.
    cat >"$work/nginx" <<NGINX
#!/bin/sh
case " \$* " in *' -t '*) ASAN_OPTIONS=\$ASAN_OPTIONS,detect_leaks=0 ;; esac
exec $TEST_NGINX_BINARY "\$@"
NGINX
    chmod +x "$work/nginx"
    export TEST_NGINX_BINARY=$work/nginx
    export ASAN_OPTIONS=log_path=$work/reports/asan
    ;;
  newer)
    from_source newer nginx-newer
    ;;
  valgrind)
    export TEST_NGINX_TIMEOUT=60
    export TEST_NGINX_USE_VALGRIND="--leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --num-callers=40 \
      --suppressions=$root/t/valgrind.supp --suppressions=$root/tests/c/valgrind.supp --gen-suppressions=all --log-file=$work/reports/valgrind.%p"
    ;;
esac

[ $# -gt 0 ] || set -- t/3*.t
status=0
prove -I t/lib "$@" </dev/null || status=$?
[ "$mode" != valgrind ] || [ -n "$(ls "$work/reports")" ] || {
  echo 'checked.sh: nothing ran under valgrind' >&2
  exit 1
}
# Of each process; without a finding there is nothing. Of LeakSanitizer's, one is nginx's own, and no suppression would name it alone: where
# nginx does not start, main() leaves its first pool behind.
find "$work/reports" -type f -size +0 -exec awk 'BEGIN { RS = "" }
  /^(=+\n)?==[0-9]+==ERROR: LeakSanitizer: [^\n]*$/ { next }
  /^Direct leak [^\n]*\n[^\n]*memalign [^\n]*\n[^\n]* ngx_memalign [^\n]*\n[^\n]* ngx_create_pool [^\n]*\n[^\n]* main / { next }
  /^SUMMARY: AddressSanitizer: [0-9]+ byte/ { next }
  { print FILENAME ":\n" $0 "\n" }' {} + >"$work/found"
if [ -s "$work/found" ]; then
  head -n 300 "$work/found" >&2
  echo "checked.sh: that is what $mode found" >&2
  exit 1
fi
exit $status
