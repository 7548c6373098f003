#!/usr/bin/env bash
# nginx with the module while it is reloaded, replaced by another binary, and loses workers, under traffic of all sorts (see tokens.mjs):
# no valid request fails, nothing is let through, and nothing stays behind: no process, no descriptor, no mapping, no memory.
#
#   reload.sh [RELOADS]   default 20
# shellcheck disable=SC2317 # what wait_until calls
set -euo pipefail

RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
here=$(cd "$(dirname "$0")" && pwd)
KEYBOUND_CONF=$here/module.conf.in
KEYBOUND_WORKERS=2
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT

reloads=${1:-20}
warm=5 # reloads before the first measure
margin=1024 worker_margin=4096 # KiB
node=$("$repo/tools/node.sh")
failed=0
wrong() {
  echo "reload: $*" >&2
  failed=1
}

master() { echo "$(<"$RUN/nginx.pid")"; }
# workers MASTER: those that take requests; others are about to end
workers() {
  local pid
  for pid in $(children "$1"); do
    ! tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q 'worker process *$' || echo "$pid"
  done
}
new_workers() { [ "$(workers "$(master)" | wc -l)" = "$KEYBOUND_WORKERS" ] && ! workers "$(master)" | grep -qxF "$1"; }
has_children() { [ "$(children "$1" | wc -w)" = "$2" ]; }
other_master() { [ -s "$RUN/nginx.pid.oldbin" ] && [ -s "$RUN/nginx.pid" ] && [ "$(master)" != "$1" ]; }
ended() { ! kill -0 "$1" 2>/dev/null; }

traffic_start() { # traffic_start KIND: of tokens.mjs
  mkfifo "$RUN/traffic.end"
  "$node" "$here/tokens.mjs" "$1" "${api##*:}" "$pki" "$issuer" <"$RUN/traffic.end" >"$RUN/traffic.out" 2>&1 &
  traffic=$!
  exec 3>"$RUN/traffic.end"
  wait_until 30 'the first answers' grep -q '^under way$' "$RUN/traffic.out"
}
traffic_stop() {
  exec 3>&-
  wait "$traffic" || wrong "$1: a request was not answered as it must be"
  rm "$RUN/traffic.end"
  echo "$1:"
  sed '/^under way$/d' "$RUN/traffic.out"
}

measure() { # measure WHEN: sets $memory, $descriptors, $mappings of the master and $most, the memory of the largest worker
  local pid size
  memory=$(resident "$(master)")
  descriptors=$(find "/proc/$(master)/fd" -type l | wc -l)
  mappings=$(wc -l <"/proc/$(master)/maps")
  most=0
  for pid in $(workers "$(master)"); do
    size=$(resident "$pid")
    ((size <= most)) || most=$size
  done
  printf '%s: master %d KiB, %d descriptors, %d mappings; largest worker %d KiB\n' "$1" "$memory" "$descriptors" "$mappings" "$most"
}
grown() { # grown WHAT BEFORE AFTER MARGIN
  (($3 - $2 <= $4)) || wrong "$1: $2 became $3: more than $4 more"
}
reload() {
  local old
  old=$(workers "$(master)")
  kill -HUP "$(master)"
  wait_until 10 'new workers' new_workers "$old"
  sleep 0.2
}

"$here/pki.sh" "$pki"
issuer_start
shared=$(find /dev/shm | sort)
gateway_start "$issuer_options"

traffic_start traffic
for ((i = 0; i < warm; i++)); do reload; done
sleep 1
measure "after $warm reloads"
before=("$memory" "$descriptors" "$mappings" "$most")
for ((; i < reloads; i++)); do reload; done
sleep 1
measure "after $reloads reloads"
traffic_stop "$reloads reloads"
grown 'memory of the master' "${before[0]}" "$memory" $margin
grown 'descriptors of the master' "${before[1]}" "$descriptors" 0
grown 'mappings of the master' "${before[2]}" "$mappings" 4
grown 'memory of a worker' "${before[3]}" "$most" $worker_margin
wait_until 10 'end of the old workers' has_children "$(master)" "$KEYBOUND_WORKERS" || failed=1

# The upgrade as nginx's documentation has it.
traffic_start traffic
old=$(master)
kill -USR2 "$old"
wait_until 10 'another master' other_master "$old"
wait_until 10 'its workers' new_workers none
kill -WINCH "$old"
# The new master is its child.
wait_until 10 'end of the workers of the old master' has_children "$old" 1
kill -QUIT "$old"
wait_until 10 'end of the old master' ended "$old"
sleep 1
traffic_stop 'another binary'
measure 'its master'

# Requests on the connections of a worker that is killed are lost; those are not that others have.
traffic_start crashes
for ((i = 0; i < 10; i++)); do
  old=$(workers "$(master)")
  # shellcheck disable=SC2086 # one word each
  kill -KILL $old
  wait_until 10 'other workers' new_workers "$old"
  sleep 0.3
done
sleep 1
traffic_stop '10 times all workers killed'
for kind in jwt opaque; do
  answers=$("$node" "$here/tokens.mjs" $kind 0 500 "${api##*:}" "$pki" "$issuer")
  [ "$answers" = '200: 500' ] || wrong "afterwards, of 500 requests: $answers"
done

last=$(master)
stop "$RUN/nginx.pid"
wait_until 10 'end of the master' ended "$last"
left=$(find /proc/[0-9]*/fd -lname "$RUN/error.log" 2>/dev/null || true)
[ -z "$left" ] || wrong "processes that are still there: $left"
[ "$(find /dev/shm | sort)" = "$shared" ] || wrong 'something is left in /dev/shm'
told=$(grep -E '\[(error|alert|emerg|crit)\]' "$RUN/error.log" | grep -v 'exited on signal 9$' || true)
[ -z "$told" ] || wrong "$(printf 'the log has %d lines:\n%s' "$(wc -l <<<"$told")" "$(head -n 5 <<<"$told")")"
exit $failed
