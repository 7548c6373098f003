# shellcheck shell=bash
# Starts, asks and stops the servers: sourced by demo.sh and by tests, which first set
#   RUN                        the directory of this run: certificates, ports, pids and logs
# and may set
#   KEYBOUND_CONF              the template of nginx.conf, when not the one here
#   KEYBOUND_LUA KEYBOUND_LIB  where resty/keybound.lua and libkeybound.so are, when not in this tree
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=${here%/*}
: "${RUN:?}" "${KEYBOUND_LUA:=$repo/lua}" "${KEYBOUND_LIB:=${CARGO_TARGET_DIR:-$repo/target}/release}"
modules=/usr/lib/nginx/modules
pki=$RUN/pki

# wait_until SECONDS WHAT COMMAND...: polls; after SECONDS says what did not happen
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if ((SECONDS > deadline)); then
      echo "gave up waiting: $what" >&2
      return 1
    fi
    sleep 0.05
  done
}

# stop PIDFILE: ends that server and waits until it is gone
stop() {
  local pid
  [ -s "$1" ] || return 0
  pid=$(<"$1")
  # The file may be older than the machine's last start: only a process that names this run is ours.
  if ours "$pid"; then
    kill "$pid"
    wait_until 10 "end of process $pid" gone "$pid" || kill -KILL "$pid"
  fi
  rm -f "$1"
}
ours() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -- "$RUN"; }
gone() { ! ours "$1"; }

# as_start: the authorization server; then $issuer is set and $RUN/jwks.json is its JWK set
as_start() {
  local node
  node=$("$repo/tools/node.sh")
  # Seen once: a Node that neither started nor ended within the time. It is said, and tried once more.
  for _ in 1 2; do
    rm -f "$RUN/as.json"
    # In a session of its own it outlives the terminal, and Ctrl-C goes to the script, which then stops it.
    setsid "$node" "$here/as/server.mjs" --pki "$pki" >"$RUN/as.json" 2>"$RUN/as.log" </dev/null &
    echo $! >"$RUN/as.pid"
    if wait_until 30 "start of the authorization server" as_ready_or_dead && as_ready; then
      break
    fi
    cat "$RUN/as.log" >&2
    stop "$RUN/as.pid"
  done
  as_ready || return 1
  issuer=$(sed 's/.*"issuer":"\([^"]*\)".*/\1/' "$RUN/as.json")
  fetch "$issuer/jwks" >"$RUN/jwks.json"
}
as_ready() { grep -qs issuer "$RUN/as.json"; }
as_ready_or_dead() { as_ready || ! kill -0 "$(<"$RUN/as.pid")" 2>/dev/null; }

# free_ports N: N free ports of 127.0.0.1, all different
free_ports() {
  "$("$repo/tools/node.sh")" -e '
    const servers = Array.from({ length: process.argv[1] }, () => require("net").createServer());
    let open = 0;
    for (const server of servers) {
      server.listen(0, "127.0.0.1", () => {
        if (++open < servers.length) return;
        for (const each of servers) console.log(each.address().port);
        for (const each of servers) each.close();
      });
    }' "$1"
}

# gateway_start [MEMBERS]: nginx with keybound; MEMBERS are more options of keybound, as JSON members. Then $api is set.
gateway_start() {
  local ports
  printf '{"issuer": "%s", "audience_required": ["https://api.test"]%s, "jwks": %s}\n' \
    "$issuer" "${1:+, $1}" "$(<"$RUN/jwks.json")" >"$RUN/keybound.json"
  # Another process may take a port between our look and nginx's bind: then try others.
  for _ in 1 2 3; do
    mapfile -t ports < <(free_ports 2)
    sed -e "s|@RUN@|$RUN|g" -e "s|@MODULES@|$modules|g" -e "s|@LUA@|$KEYBOUND_LUA|g" -e "s|@LIB@|$KEYBOUND_LIB|g" \
      -e "s|@PORT@|${ports[0]}|g" -e "s|@UPSTREAM_PORT@|${ports[1]}|g" "${KEYBOUND_CONF:-$here/nginx.conf.in}" >"$RUN/nginx.conf"
    if nginx_run 2>"$RUN/start.log"; then
      # shellcheck disable=SC2034 # for the caller
      api=https://api.test:${ports[0]}
      return 0
    fi
    grep -q 'Address already in use' "$RUN/start.log" || break
  done
  cat "$RUN/start.log" >&2
  return 1
}
# It comes back when the ports are open. As root the workers stay root: the tree may lie where only root reads.
nginx_run() {
  local user=()
  [ "$(id -u)" != 0 ] || user=(-g 'user root;')
  /usr/sbin/nginx -p "$RUN" -e "$RUN/error.log" -c "$RUN/nginx.conf" "${user[@]}"
}

# start: the certificates and both servers; stop_all: the end of both
start() {
  "$here/pki.sh" "$pki"
  as_start
  gateway_start "$@"
}
stop_all() {
  stop "$RUN/nginx.pid"
  stop "$RUN/as.pid"
}

# fetch ARGUMENTS...: curl that knows our CA and that api.test is here
fetch() { curl -sS --noproxy '*' --max-time 20 --cacert "$pki/ca.crt" --connect-to api.test::127.0.0.1: "$@"; }

# with NAME: the words of curl for the client certificate NAME; none for -
with() { [ "$1" = - ] || printf '%s\n' --cert "$pki/$1.crt" --key "$pki/$1.key"; }

# token CLIENT CERTIFICATE [RESOURCE [SCOPE]]: an access token for that client, asked for with that certificate (- for none)
token() {
  local arguments
  mapfile -t arguments < <(with "$2")
  case $1 in
    any | unbound) arguments+=(-u "$1:$1-secret") ;;
    *) arguments+=(-d "client_id=$1") ;;
  esac
  fetch "${arguments[@]}" "$issuer/token" -d grant_type=client_credentials -d "resource=${3-https://api.test}" \
    -d "scope=${4-read}" | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}

# claims TOKEN: its payload, as JSON; replace_claims TOKEN JSON: the same token with another payload and the old signature
claims() {
  local text=${1#*.}
  text=${text%%.*}
  while ((${#text} % 4)); do text+='='; done
  tr '_-' '/+' <<<"$text" | base64 -d
}
replace_claims() { echo "${1%%.*}.$(printf %s "$2" | base64url).${1##*.}"; }
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# thumbprint CERTIFICATE: x5t#S256 as openssl computes it
thumbprint() { openssl x509 -in "$pki/$1.crt" -outform DER | openssl dgst -sha256 -binary | base64url; }

# reason PATH: why keybound refused the last request for PATH, by nginx's log
reason() { sed -n "\\|\"GET $1 |s/.*keybound: refused.*reason=\([a-z0-9_]*\).*/\1/p" "$RUN/error.log" | tail -n 1; }
