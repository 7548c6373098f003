#!/usr/bin/env bash
# Installs what a part of the project needs and the machine (Debian 12) lacks. Says nothing when nothing is missing.
#
#   setup.sh PART...
#     build     the C tools; Rust must be there
#     nginx     nginx with Lua
#     nginx-module  what the nginx module is built with
#     nginx-source  the source of that nginx, and of a newer one, in target/nginx-source, and what it takes to build them
#     as        the authorization server of the demo and tests, and a Node for it (tools/node.sh prints its path)
#     browser   Chromium, and what drives it, for the test of a login
#     bench     the tools that count instructions
#     coverage  cargo llvm-cov, and the LLVM that reads this Rust's profiles
#     redis     a Redis for the tests, and nginx's client for it
#     rock      LuaRocks
#     test      build, nginx, nginx-module, nginx-source, as, browser, bench, redis, rock and the test tools
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
export DEBIAN_FRONTEND=noninteractive

die() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

work=$(mktemp -d)
undo=() # files outside of the tree that must not stay
trap '[ ${#undo[@]} = 0 ] || "${sudo[@]}" rm -f "${undo[@]}"; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

quietly() {
  "$@" >"$work/log" 2>&1 </dev/null || {
    cat "$work/log" >&2
    die "failed: $*"
  }
}
apt() { quietly "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }
version() { dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'; }
put() { # put FILE: stdin into a file of root's, until the end of this script (not in a pipeline: `undo` would be lost)
  undo+=("$1")
  "${sudo[@]}" tee "$1" >/dev/null
}

updated=
install() {
  local package missing=()
  for package; do
    [ -n "$(version "$package")" ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "these are missing, and there is no apt-get to get them: ${missing[*]}"
  [ -n "$updated" ] || apt update
  updated=1
  case " ${missing[*]} " in *' nginx '* | *' redis-server '*) keep_services_stopped ;; esac
  apt install -y --no-install-recommends "${missing[@]}"
  for package in "${missing[@]}"; do
    echo "setup: installed $package $(version "$package")"
    case $package in
      nginx | redis-server) [ ! -d /run/systemd/system ] || quietly "${sudo[@]}" systemctl disable "$package" ;;
    esac
  done
}

# Debian starts the service of a new package, here a web server on port 80 or a Redis that nobody asked for.
keep_services_stopped() {
  [ ! -e /usr/sbin/policy-rc.d ] || return 0
  put /usr/sbin/policy-rc.d <<'POLICY'
#!/bin/sh
case $1 in nginx* | redis*) exit 101 ;; esac
POLICY
  "${sudo[@]}" chmod 755 /usr/sbin/policy-rc.d
}

# suite TYPE NAME: that suite of Debian, from the same mirror as the machine's own, as apt's sources have it
suite() {
  local uri
  # shellcheck disable=SC2016
  uri=$(apt-get indextargets --format '$(REPO_URI)' "Release: $(codename)" 'Component: main' 'Created-By: Packages')
  uri=${uri%%$'\n'*}
  [ -n "$uri" ] || die "found no Debian mirror in apt's sources"
  cat <<SOURCE
Types: $1
URIs: $uri
Suites: $2
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCE
}
# shellcheck disable=SC1091
codename() { (. /etc/os-release && echo "$VERSION_CODENAME"); }

# Test::Nginx is packaged only in a later Debian; it is plain Perl and runs here. From there comes this package and no other.
install_test_nginx() {
  local source
  [ -z "$(version libtest-nginx-perl)" ] || return 0
  source=$(suite deb forky)
  put /etc/apt/sources.list.d/keybound-forky.sources <<<"$source"
  put /etc/apt/preferences.d/keybound-forky <<PIN
Package: *
Pin: release n=forky
Pin-Priority: -1

Package: libtest-nginx-perl
Pin: release n=forky
Pin-Priority: 500
PIN
  updated=
  install libtest-nginx-perl
}

part_build() {
  install gcc libc6-dev make pkgconf git curl ca-certificates
  command -v cargo >/dev/null || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] ||
    die "Rust is missing (no cargo in PATH)." "Install a toolchain first, for example with rustup: https://rustup.rs"
}

# luajit2 and not luajit: that one conflicts with the LuaJIT that Debian's nginx module brings.
part_nginx() { install nginx libnginx-mod-http-lua lua-resty-core lua-cjson luajit2 openssl curl; }

part_nginx_module() { install gcc libc6-dev make nginx nginx-dev libssl-dev libpcre2-dev zlib1g-dev; }

# Two sources: of the nginx that is installed, and of the next Debian's, where the API for modules is another one. apt checks
# their signatures; its state is in a directory of this script's own, so that it needs no root and leaves nothing behind.
part_nginx_source() {
  local installed suite unpacked=$root/target/nginx-source
  part_nginx_module
  installed=$(/usr/sbin/nginx -v 2>&1)
  installed=nginx-${installed##*/}
  [ ! -e "$unpacked/$installed" ] || [ ! -e "$unpacked/newer" ] || return 0
  mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/apt/sources" "$unpacked"
  for suite in "$(codename)" trixie; do
    suite deb-src "$suite" >"$work/apt/sources/$suite.sources"
  done
  cat >"$work/apt/conf" <<CONF
Dir::State "$work/apt";
Dir::Cache "$work/apt";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$work/apt/sources";
APT::Sandbox::User "$(id -un)";
CONF
  APT_CONFIG=$work/apt/conf quietly apt-get -q update
  for suite in "$(codename)" trixie; do
    mkdir "$work/$suite"
    cd "$work/$suite"
    APT_CONFIG=$work/apt/conf quietly apt-get -q source --download-only "nginx/$suite"
    tar -xf nginx_*.orig.tar.gz --no-same-owner -C "$unpacked"
  done
  cd "$root"
  [ -e "$unpacked/$installed" ] || die "nginx is $installed, but Debian's source is that of another version:" "$(ls "$unpacked")"
  set -- "$work"/trixie/nginx_*.orig.tar.gz
  set -- "${1##*/nginx_}"
  ln -sfn "nginx-${1%.orig.tar.gz}" "$unpacked/newer"
  echo "setup: unpacked $installed and $(readlink "$unpacked/newer") in target/nginx-source"
}

# node_packages DIRECTORY WHAT: what its package-lock.json names, and a Node to run it
node_packages() {
  local directory=$root/nginx-test/$1
  if ! "$root/tools/node.sh" >/dev/null 2>&1; then
    command -v npm >/dev/null || install npm
    quietly npm install --no-save --no-audit --no-fund --prefix "$root/nginx-test/node" node@22
    echo "setup: installed Node $("$("$root/tools/node.sh")" --version) in nginx-test/node"
  fi
  if ! cmp -s "$directory/package-lock.json" "$directory/node_modules/.installed"; then
    command -v npm >/dev/null || install npm
    quietly npm ci --prefix "$directory"
    cp "$directory/package-lock.json" "$directory/node_modules/.installed"
    echo "setup: installed $2 in nginx-test/$1"
  fi
}

part_as() { node_packages as 'oidc-provider and what it needs'; }

part_browser() {
  install chromium libnss3-tools openssl
  node_packages browser playwright-core
}

part_bench() { install valgrind; }

part_redis() { install redis-server redis-tools lua-nginx-redis; }

part_rock() { install luarocks; }

part_coverage() {
  local llvm
  llvm=llvm-$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  install "$llvm"
  command -v cargo-llvm-cov >/dev/null || quietly cargo install --locked cargo-llvm-cov
}

part_test() {
  part_build
  part_nginx
  part_nginx_module
  part_nginx_source
  part_as
  part_browser
  part_bench
  part_redis
  part_rock
  install lua5.4 lua-check g++ libssl-dev libcurl4-openssl-dev libyaml-pp-perl libcryptx-perl
  install_test_nginx
}

[ $# -gt 0 ] || die 'usage: setup.sh build|nginx|nginx-module|nginx-source|as|browser|bench|coverage|redis|rock|test ...'
for part; do
  case $part in
    build | nginx | nginx-module | nginx-source | as | browser | bench | coverage | redis | rock | test) ;;
    *) die "no part named $part: build, nginx, nginx-module, nginx-source, as, browser, bench, coverage, redis, rock, test" ;;
  esac
done
for part; do "part_${part//-/_}"; done
