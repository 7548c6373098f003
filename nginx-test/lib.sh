# shellcheck shell=bash
# Starts, asks and stops the servers: sourced by demo.sh and by tests, which first set
#   RUN                        the directory of this run: certificates, ports, pids and logs
# and may set
#   KEYBOUND_CONF              the template of nginx.conf, when not the one here
#   KEYBOUND_WORKERS           how many, where the template asks for it; default 1
#   KEYBOUND_LUA KEYBOUND_LIB KEYBOUND_MODULE  where resty/keybound.lua, libkeybound.so and the nginx module are, when not in this tree
#   KEYBOUND_NGINX             that nginx, when not Debian's
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=${here%/*}
: "${RUN:?}" "${KEYBOUND_LUA:=$repo/lua}" "${KEYBOUND_LIB:=${CARGO_TARGET_DIR:-$repo/target}/release}"
: "${KEYBOUND_NGINX:=/usr/sbin/nginx}" "${KEYBOUND_MODULE:=${CARGO_TARGET_DIR:-$repo/target}/nginx/ngx_http_keybound_module.so}"
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

# resident PID: its memory, in KiB; children PID: its processes
resident() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$1/status"; }
children() { cat "/proc/$1/task/$1/children"; }

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

# server_start NAME COMMAND...: a server that prints one line of JSON when it is ready: to $RUN/NAME.json
server_start() {
  local name=$1
  shift
  # Seen once: a Node that neither started nor ended within the time. It is said, and tried once more.
  for _ in 1 2; do
    rm -f "$RUN/$name.json"
    # In a session of its own it outlives the terminal, and Ctrl-C goes to the script, which then stops it.
    setsid "$@" >"$RUN/$name.json" 2>"$RUN/$name.log" </dev/null &
    echo $! >"$RUN/$name.pid"
    if wait_until 30 "start of $name" ready_or_dead "$name" && ready "$name"; then
      return 0
    fi
    cat "$RUN/$name.log" >&2
    stop "$RUN/$name.pid"
  done
  return 1
}
ready() { grep -qs '}$' "$RUN/$1.json"; }
ready_or_dead() { ready "$1" || ! kill -0 "$(<"$RUN/$1.pid")" 2>/dev/null; }
# member NAME SERVER: of the line that it printed
member() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$RUN/$2.json"; }
# control URL PATH [JSON]: asks a control port, or tells it
control() { curl -q -sS --noproxy '*' --max-time 20 "$1$2" ${3+--data-binary "$3"}; }

# as_start [NAME [OPTION...]]: an authorization server, by default `as`; NAME is also that of its certificate. OPTION: of
# as/server.mjs. Then it is the one that the functions below ask, and for `as` $RUN/jwks.json is its JWK set.
as_start() {
  local name=${1-as} node
  node=$("$repo/tools/node.sh")
  server_start "$name" "$node" "$here/as/server.mjs" --pki "$pki" --cert "$name" "${@:2}" || return 1
  as_use "$name"
  [ "$name" != as ] || fetch "$issuer/jwks" >"$RUN/jwks.json"
}
# as_use NAME: one of those that were started; sets $issuer, $mtls_port (its port for mutual TLS), $as_control
as_use() {
  issuer=$(member issuer "$1")
  # shellcheck disable=SC2034 # for the caller
  mtls_port=$(member mtls_port "$1")
  as_control=http://127.0.0.1:$(member control_port "$1")
}
# as_control PATH JSON: see as/server.mjs; as_log: the requests so far, as JSON
as_control() { control "$as_control" "$1" "$2"; }
as_log() { control "$as_control" /log; }

# peer_start [NAME [OPTION...]]: the scripted peer; OPTION: of peer.mjs. Then $peer is host:port, and the functions below ask it.
peer_start() {
  local name=${1-peer} node
  node=$("$repo/tools/node.sh")
  server_start "$name" "$node" "$here/peer.mjs" --pki "$pki" "${@:2}" || return 1
  peer_use "$name"
}
peer_use() {
  # shellcheck disable=SC2034 # for the caller
  peer=localhost:$(member port "$1")
  peer_control=http://127.0.0.1:$(member control_port "$1")
}
# peer_script JSON: see peer.mjs; peer_log: what came, as JSON
peer_script() { control "$peer_control" /script "$1"; }
peer_log() { control "$peer_control" '/log?bodies'; }

# issuer_start: the peer as an issuer of tokens without number: of JWTs that client.key signed, and of all others that it is asked for (see
# tokens.mjs). Then $issuer is set, and $issuer_options are those of a gateway that fetches its keys and introspects.
issuer_start() {
  local keys thumbprint exp
  peer_start peer
  issuer=https://$peer
  keys=$("$("$repo/tools/node.sh")" "$here/tokens.mjs" jwks "$pki")
  thumbprint=$(thumbprint client)
  exp=$(($(date +%s) + 3600))
  peer_script "{
    \"/jwks\": {\"json\": $keys},
    \"/introspect\": {\"json\": {\"active\": true, \"aud\": \"https://api.test\", \"exp\": $exp, \"cnf\": {\"x5t#S256\": \"$thumbprint\"}}}
  }" >"$RUN/answer"
  # shellcheck disable=SC2034 # for the caller
  issuer_options="\"jwks_uri\": \"$issuer/jwks\", \"introspection_endpoint\": \"$issuer/introspect\", \"client_id\": \"gateway\",
    \"client_secret\": \"gateway-secret\", \"client_auth\": \"client_secret_basic\", \"ssl_trusted_certificate\": \"$pki/ca.crt\""
}

# redis_start [PASSWORD]: a Redis that keeps nothing, on $redis_port, the same one when started again; and on $RUN/redis/socket
redis_start() {
  mkdir -p "$RUN/redis"
  for _ in 1 2 3; do
    : "${redis_port:=$(free_ports 1)}"
    printf '%s\n' 'bind 127.0.0.1' "port $redis_port" "dir $RUN/redis" "unixsocket $RUN/redis/socket" 'save ""' 'appendonly no' \
      'set-proc-title no' ${1:+"requirepass $1"} >"$RUN/redis.conf"
    setsid redis-server "$RUN/redis.conf" >"$RUN/redis.log" 2>&1 </dev/null &
    echo $! >"$RUN/redis.pid"
    if wait_until 10 'start of redis-server' redis_ready_or_dead && redis_ready; then
      return 0
    fi
    stop "$RUN/redis.pid"
    grep -q 'Address already in use' "$RUN/redis.log" || break
    redis_port=
  done
  cat "$RUN/redis.log" >&2
  return 1
}
redis_ready() { grep -qs 'Ready to accept connections' "$RUN/redis.log"; }
redis_ready_or_dead() { redis_ready || ! kill -0 "$(<"$RUN/redis.pid")" 2>/dev/null; }
redis_stop() { stop "$RUN/redis.pid"; }

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

# gateway_start [MEMBERS]: nginx with keybound; MEMBERS are more options of keybound, as JSON members. Then $api is set. The keys of the
# authorization server are configured, unless MEMBERS make the gateway its client: then it fetches them.
gateway_start() {
  local ports keys peer_port=${peer-}
  case ${1-} in
    *'"client_id"'*) keys= ;;
    *) keys=", \"jwks\": $(<"$RUN/jwks.json")" ;;
  esac
  printf '{"issuer": "%s", "audience_required": ["https://api.test"]%s%s}\n' "$issuer" "${1:+, $1}" "$keys" >"$RUN/keybound.json"
  # Another process may take a port between our look and nginx's bind: then try others.
  for _ in 1 2 3; do
    mapfile -t ports < <(free_ports 3)
    sed -e "s|@RUN@|$RUN|g" -e "s|@MODULES@|$modules|g" -e "s|@LUA@|$KEYBOUND_LUA|g" -e "s|@LIB@|$KEYBOUND_LIB|g" \
      -e "s|@PORT@|${ports[0]}|g" -e "s|@UPSTREAM_PORT@|${ports[1]}|g" -e "s|@METRICS_PORT@|${ports[2]}|g" \
      -e "s|@MODULE@|$KEYBOUND_MODULE|g" -e "s|@WORKERS@|${KEYBOUND_WORKERS:-1}|g" -e "s|@PEER_PORT@|${peer_port##*:}|g" \
      "${KEYBOUND_CONF:-$here/nginx.conf.in}" >"$RUN/nginx.conf"
    if nginx_run 2>"$RUN/start.log"; then
      # shellcheck disable=SC2034 # for the caller
      api=https://api.test:${ports[0]} metrics=http://127.0.0.1:${ports[2]}/metrics
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
  # The module asks for the library by its soname.
  mkdir -p "$RUN/lib"
  ln -sf "$KEYBOUND_LIB/libkeybound.so" "$RUN/lib/libkeybound.so.1"
  LD_LIBRARY_PATH=$RUN/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$KEYBOUND_NGINX" -p "$RUN" -e "$RUN/error.log" -c "$RUN/nginx.conf" "${user[@]}"
}

# start: the certificates, the authorization server and the gateway; stop_all: the end of all that runs
start() {
  "$here/pki.sh" "$pki"
  as_start as
  gateway_start "$@"
}
stop_all() {
  local file
  stop "$RUN/nginx.pid"
  for file in "$RUN"/*.pid; do stop "$file"; done
}

# fetch ARGUMENTS...: curl that knows our CAs and that api.test is here
fetch() { curl -sS --noproxy '*' --max-time 20 --cacert "$pki/roots.crt" --connect-to api.test::127.0.0.1: "$@"; }

# with NAME: the words of curl for the client certificate NAME; none for -
with() { [ "$1" = - ] || printf '%s\n' --cert "$pki/$1.crt" --key "$pki/$1.key"; }

# token CLIENT CERTIFICATE [RESOURCE [SCOPE]]: an access token for that client, asked for with that certificate (- for none)
token() {
  local arguments
  mapfile -t arguments < <(with "$2")
  case $1 in
    any | unbound | gateway-basic) arguments+=(-u "$1:$1-secret") ;;
    *) arguments+=(-d "client_id=$1") ;;
  esac
  fetch "${arguments[@]}" "$issuer/token" -d grant_type=client_credentials -d "resource=${3-https://api.test}" \
    -d "scope=${4-read}" | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}

# revoke CLIENT CERTIFICATE TOKEN: at the authorization server, by the client that it was issued to
revoke() {
  local arguments
  mapfile -t arguments < <(with "$2")
  fetch "${arguments[@]}" -d "client_id=$1" -d "token=$3" "$issuer/token/revocation"
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
reason() { sed -n "\\|\"[A-Z]* $1 |s/.*keybound: refused.*reason=\([a-z0-9_]*\).*/\1/p" "$RUN/error.log" | tail -n 1; }
