#!/usr/bin/env bash
# docs/proof-of-possession.md, docs/dpop.md, docs/logins.md and docs/nginx.md as a new user goes through them: certificates, nginx.conf and commands are taken out
# of the pages, and only hosts, ports and directories are filled in. Needs: tools/setup.sh build nginx nginx-module as; the built library and
# module. Kong's parts are in t/219-kong-docs.t.
# shellcheck disable=SC2016,SC2034,SC2317 # commands and JavaScript in quotes, which use what is set and defined here
set -euo pipefail

RUN=$(mktemp -d "${TMPDIR:-/tmp}/keybound.XXXXXX")
KEYBOUND_CONF=$RUN/template
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
trap 'stop_all; rm -rf "$RUN"' EXIT

failed=0
wrong() {
  failed=1
  echo "$page: $*" >&2
}

# expect WHAT GOT WANTED
expect() { [ "$2" = "$3" ] || wrong "$1: $2 instead of $3"; }

# block LANGUAGE N: the Nth code block of that language of the page; N starts at 1
block() { awk -v open="\`\`\`$1" -v n="$2" '$0 == "```" { inside = 0 } inside { print } $0 == open && ++i == n { inside = 1 }' "$repo/docs/$page"; }

# filled: stdin with the hosts of this machine
filled() {
  sed -e "s|https://as\.example\.com|$issuer|g" -e 's|api\.example\.com|api.test|g' -e 's|app\.example\.com|api.test|g' \
    -e "s|/etc/keybound|$desk|g" -e "s|/etc/ssl/certs/ca-certificates.crt|$pki/ca.crt|g"
}

# follow PAGE: its certificates are made, and known to an authorization server
follow() {
  page=$1 desk=$RUN/${1%.md}
  mkdir "$desk"
  # As in the page, in a directory of the user's.
  (cd "$desk" && block sh 1 >commands && bash -euo pipefail commands 2>commands.log) || {
    cat "$desk/commands.log" >&2
    wrong 'the certificates cannot be made'
    exit 1
  }
  rm -rf "$pki"
  "$here/pki.sh" "$pki"
  cat "$desk/ca.crt" >>"$pki/ca.crt"
  as_start
}

# Where things are on this machine
LOCAL='s|^user www-data;|user root;|; s|listen 443 |listen 127.0.0.1:@PORT@ |; s|127\.0\.0\.1:9145|127.0.0.1:@METRICS_PORT@|
  s|127\.0\.0\.1:8080|127.0.0.1:@UPSTREAM_PORT@|; s|/etc/nginx/server\.|@RUN@/pki/server.|; s|/run/nginx.pid|@RUN@/nginx.pid|; s|/var/log/nginx/|@RUN@/|'

# serve [SED_SCRIPT]: nginx with the nginx.conf of the page, changed by the script
serve() {
  block nginx 1 | filled >"$desk/nginx.conf"
  sed -i -e "$LOCAL" -e "${1-}" "$desk/nginx.conf"
  # Lua from this tree, and the API of the demo behind.
  {
    sed '/^http {$/q' "$desk/nginx.conf"
    sed -n '/^  client_body_temp_path/,/^  scgi_temp_path/p; /^  lua_package_/p; /^  # The API behind/,$p' "$here/nginx.conf.in" | sed '$d'
    sed '1,/^http {$/d' "$desk/nginx.conf"
  } >"$KEYBOUND_CONF"
  gateway_start
  port=${api##*:}
}
# The user is named in nginx.conf; Debian's files name the modules from nginx's own directory. The system's loader finds the library by its soname.
nginx_run() {
  ln -sfn "$modules" "$RUN/modules"
  mkdir -p "$RUN/lib"
  ln -sf "$KEYBOUND_LIB/libkeybound.so" "$RUN/lib/libkeybound.so.1"
  LD_LIBRARY_PATH=$RUN/lib /usr/sbin/nginx -p "$RUN" -e "$RUN/error.log" -c "$RUN/nginx.conf"
}

# serve_module JSON [SED_SCRIPT] <NGINX_CONF: nginx without Lua, with this nginx.conf of the page, changed by the script, and that block of JSON
serve_module() {
  local file
  stop "$RUN/nginx.pid"
  # What is in the page between the hosts of this machine and their ports
  sed -e "s|modules/ngx_http_keybound_module.so|$KEYBOUND_MODULE|" -e "s|as\.example\.com:8443|localhost:$mtls_port|" \
    -e "s|as\.example\.com:443|${issuer#https://}|" -e 's|name as\.example\.com|name localhost|' -e 's|127\.0\.0\.1:4180|127.0.0.1:@UPSTREAM_PORT@|' \
    -e "$LOCAL" -e "${2-}" | filled >"$desk/nginx.conf"
  file=$(sed -n 's/^ *keybound_config \([^;]*\);.*/\1/p' "$desk/nginx.conf")
  block json "$1" | filled | sed -e "s|{ \"keys\": \[ … \] }|$(<"$RUN/jwks.json")|" -e "s|…|$(openssl rand -base64 32)|" >"$desk/$file"
  # The API behind says what it was told.
  {
    sed '/^http {$/q' "$desk/nginx.conf"
    sed -n '/^  client_body_temp_path/,/^  scgi_temp_path/p' "$here/nginx.conf.in"
    printf '%s\n' 'server {' 'listen 127.0.0.1:@UPSTREAM_PORT@;' 'location / {' 'return 200 "user $http_x_user, client $http_x_client' \
      'Authorization: $http_authorization' 'Cookie: $http_cookie' '";' '}' '}'
    sed -e '1,/^http {$/d' -e "s|keybound_config |&$desk/|" "$desk/nginx.conf"
  } >"$KEYBOUND_CONF"
  gateway_start
  port=${api##*:}
}

# by_hand COMMANDS: as the user types them
by_hand() {
  (
    cd "$desk"
    curl() { command curl -q -sS --noproxy '*' --max-time 20 --cacert "$pki/roots.crt" --connect-to "api.test:443:127.0.0.1:$port" "$@"; }
    keybound() { "$KEYBOUND_LIB/keybound" "$@"; }
    eval "$1"
  )
}

# why: how keybound refused or answered the last request
why() { sed -n 's/.*keybound: [a-z]*, reason=\([a-z0-9_]*\).*/\1/p' "$RUN/error.log" | tail -n 1; }

# requests N [LINES]: the requests of the Nth block of commands, or the first lines of it, each with the outcome that its comment promises: STATUS [REASON]
requests() {
  local line command promised status n=0
  while IFS= read -r line; do
    command=${line%%  #*} promised=${line##*# } n=$((n + 1))
    : >"$RUN/error.log"
    status=$(by_hand "$command" | sed -n 's/^HTTP[^ ]* \([0-9]*\).*/\1/p')
    [ "$status $(why)" = "$promised" ] || [ "$status" = "$promised" ] || wrong "$command: $status $(why) instead of $promised"
  done < <(block sh "$1" | head -n "${2-1000}" | filled)
  [ $n != 0 ] || wrong "there is no block $1"
}

# as_clients N: the clients of the Nth block of JSON are those of the server
as_clients() {
  block json "$1" | filled | "$("$repo/tools/node.sh")" --input-type=module -e '
    import { readFileSync } from "node:fs";
    const { clients } = await import(process.argv[1]);
    const known = clients((name) => readFileSync(`${process.argv[2]}/${name}`));
    for (const wanted of [JSON.parse(readFileSync(0))].flat()) {
      const client = known.find(({ client_id }) => client_id === wanted.client_id) ?? {};
      for (const [name, value] of Object.entries(wanted)) {
        const [a, b] = [value, client[name]].map((each) => JSON.stringify(each));
        if (name !== "jwks" && a !== b) { console.log(`${wanted.client_id}: ${name} is ${b} in as/clients.mjs`); process.exitCode = 1; }
      }
    }' "$here/as/clients.mjs" "$pki" || wrong 'other clients than those of the tests'
}

# --- docs/proof-of-possession.md

follow proof-of-possession.md
as_clients 1
serve
token=$(by_hand "$(block sh 2 | filled)"'; printf %s "$token"')
bound=$(by_hand "$(block sh 3 | sed -n 1p)" | sed -n 's/.*"x5t#S256":"\([^"]*\)".*/\1/p')
print=$(by_hand "$(block sh 3 | sed -n 2p)")
[ -n "$bound$print" ] || wrong 'no thumbprints'
expect 'the token is bound to' "$bound" "$print"
requests 4
requests 5
token=$(by_hand "$(block sh 2 | filled | sed 's|resource=https://api.test|&/opaque|')"'; printf %s "$token"')
case $token in '' | *.*) wrong 'no opaque token' ;; esac
requests 4
requests 5
stop_all
[ $failed = 0 ] && echo 'docs/proof-of-possession.md works as written.'

# --- docs/logins.md

node=$("$repo/tools/node.sh")
# browse OPTION... URL: as the user with his certificate; the answer is in $RUN/browser.json
browse() {
  "$node" "$here/browser.mjs" --jar "$desk/jar" --ca "$pki/roots.crt" --cert "$desk/user.crt" --key "$desk/user.key" --connect "api.test=127.0.0.1:$port" \
    "$@" >"$RUN/browser.json"
}
# of FILE EXPRESSION: what JavaScript says of `it`, the JSON in FILE
of() { "$node" -e 'const it = JSON.parse(require("fs").readFileSync(process.argv[1])); console.log(eval(process.argv[2]))' "$1" "$2"; }
# asked: the requests that the AS got with a client certificate since they were cleared, each with port, client_id and CN
asked() {
  as_log >"$RUN/as-log.json"
  of "$RUN/as-log.json" 'it.filter((r) => r.certificate).map((r) => `${r.path} ${r.grant_type ?? r.token_type_hint ?? ""} ${r.port} ${r.client_id} ${r.certificate.subject}`).join("\n")'
}

# logs_in: the whole flow, to the page that was wanted
logs_in() {
  rm -f "$desk/jar"
  control "$as_control" /log/clear {} >"$RUN/control.log"
  browse --user alice 'https://api.test/hello?x=1'
  expect 'login, status' "$(of "$RUN/browser.json" 'it.status + " " + it.url')" '200 https://api.test/hello?x=1'
  expect 'login, upstream' "$(of "$RUN/browser.json" '/^authorization: Bearer ey/im.test(it.body) && !/__Host/.test(it.body)')" true
  cookie=$(of "$desk/jar" 'it.find(({ name }) => name === "__Host-session").value')
}

follow logins.md
as_clients 1
cp "$pki/thief.crt" "$pki/thief.key" "$desk"
serve
logs_in
expect 'the code is exchanged' "$(asked)" '/token authorization_code mtls web CN=web'
requests 2
requests 3
control "$as_control" /log/clear {} >"$RUN/control.log"
requests 4
expect 'tokens are revoked' "$(asked)" "/token/revocation refresh_token mtls web CN=web
/token/revocation access_token mtls web CN=web"

# The same by a browser: from a page of the application to the AS and back
logs_in
browse --from https://api.test/hello --method POST https://api.test/logout
expect 'logout' "$(of "$RUN/browser.json" 'it.status + " " + it.url + " " + it.hops.length')" '200 https://api.test/logged-out 4'

# A token that lives shortly is refreshed in the last third of its life.
as_control /ttl '{"AccessToken": 6}' >"$RUN/control.log"
logs_in
sleep 4
browse --fetch https://api.test/hello
expect 'after a refresh' "$(of "$RUN/browser.json" it.status)" 200
expect 'the token is refreshed' "$(asked | tail -n 1)" '/token refresh_token mtls web CN=web'
as_control /ttl '{}' >"$RUN/control.log"

rm "$desk/jar"
browse --abort https://api.test/hello
expect 'a user who says no' "$(of "$RUN/browser.json" 'it.status + " " + it.headers["content-type"]') $(why)" '403 text/html; charset=utf-8 login_refused'

# Without certificates of users, as the page says: then a stolen cookie works.
stop "$RUN/nginx.pid"
serve 's|session_bind_certificate = true|proof_of_possession_mtls = "off"|; /ssl_verify_client/d'
logs_in
expect 'without a certificate' "$(by_hand 'curl -o /dev/null -w "%{http_code}" -b "__Host-session=$cookie" https://api.test/hello')" 200

# The other method, with its own certificate
stop "$RUN/nginx.pid"
cp "$pki/web-self-signed.crt" "$desk/web.crt"
cp "$pki/web-self-signed.key" "$desk/web.key"
serve 's|client_id = "web"|client_id = "web-self-signed"|; s|client_auth = "tls_client_auth"|client_auth = "self_signed_tls_client_auth"|'
logs_in
expect 'the code is exchanged' "$(asked)" '/token authorization_code mtls web-self-signed CN=web-self-signed'

# No server, no login.
stop "$RUN/as.pid"
rm "$desk/jar"
sleep 10
browse https://api.test/hello
expect 'no AS' "$(of "$RUN/browser.json" 'it.status + " " + it.headers["content-type"]') $(why)" '503 text/html; charset=utf-8 metadata_unavailable'

stop_all
[ $failed = 0 ] && echo 'docs/logins.md works as written.'

# --- docs/nginx.md

page=nginx.md desk=$pki
rm -rf "$pki"
"$here/pki.sh" "$pki"
as_start

# answer: what the API was told of the user of a request
answer() { by_hand 'curl --cert client.crt --key client.key -H "Authorization: Bearer $token" https://api.test/' | head -n 1; }

# A file of keys
serve_module 1 < <(block nginx 1)
token=$(token client client)
requests 1
expect 'the user' "$(answer)" 'user client, client '
token=$(token client client https://api.test 'read write')
expect 'both scopes' "$(by_hand 'curl -o /dev/null -w "%{http_code}" --cert client.crt --key client.key -H "Authorization: Bearer $token" https://api.test/admin/')" 200
expect 'an expired certificate' "$(by_hand 'curl -o /dev/null -w "%{http_code}" --cert expired.crt --key expired.key https://api.test/') $(why)" '401 certificate_refused'
expect 'metrics' "$(curl -q -sS --noproxy '*' "$metrics" | grep -c 'decision="deny",reason="certificate_mismatch".* 1$')" 1

# Keys that are fetched
control "$as_control" /log/clear {} >"$RUN/control.log"
serve_module 2 < <(block nginx 2)
requests 1 3
as_log >"$RUN/as-log.json"
expect 'what was asked for' "$(of "$RUN/as-log.json" 'it.map((r) => r.path).join(" ")')" '/.well-known/openid-configuration /jwks'

# Introspection
control "$as_control" /log/clear {} >"$RUN/control.log"
serve_module 3 < <(block nginx 3)
requests 1 3
token=$(token client client https://api.test/opaque)
case $token in '' | *.*) wrong 'no opaque token' ;; esac
requests 1 3
# Of a client that got its token for itself this AS names no subject.
expect 'the client' "$(answer)" 'user , client client'
expect 'who introspects' "$(asked | grep introspection)" '/token/introspection access_token mtls gateway CN=gateway'
expect 'metrics' "$(curl -q -sS --noproxy '*' "$metrics" | grep -c 'endpoint="introspection",outcome="ok".* 1$')" 1

# The certificate by variables, which are empty for requests without one
control "$as_control" /log/clear {} >"$RUN/control.log"
serve_module 3 '/_certificate.* .*gateway\./d; s|^ *proxy_ssl_session_reuse off;|& proxy_ssl_certificate $keybound_fetch_certificate; proxy_ssl_certificate_key $keybound_fetch_certificate_key;|' < <(block nginx 3)
expect 'certificates that are named' "$(grep -c 'gateway\.' "$desk/nginx.conf")" 0
expect 'the client' "$(answer)" 'user , client client'
expect 'who introspects' "$(asked)" '/token/introspection access_token mtls gateway CN=gateway'

# Logins: the lines of the page in place of those that it says
block nginx 4 >"$desk/lines"
serve_module 4 < <(block nginx 3 | sed -e "/access_log/r $desk/lines" -e '/keybound_zone/,/keybound_fetch .* gateway;/d' -e 's/as_gateway/as_web/; s/gateway\./web./')
for end in crt key; do cp "$pki/client.$end" "$pki/user.$end"; done
logs_in
expect 'the code is exchanged' "$(asked)" '/token authorization_code mtls web CN=web'
page=logins.md
for n in 2 3 4; do requests $n; done
page=nginx.md

# DPoP: who has the key gets a token that is bound to it
for name in phone thief; do openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$desk/$name.pem"; done
serve_module 5 < <(block nginx 5)
proof=$(by_hand 'keybound proof --key phone.pem --method POST --url "$issuer/token"')
token=$(fetch -u unbound:unbound-secret -H "DPoP: $proof" "$issuer/token" -d grant_type=client_credentials -d resource=https://api.test -d scope=read |
  sed 's/.*"access_token":"\([^"]*\)".*/\1/')
unbound=$(token unbound -)
requests 2
proof=$(by_hand 'keybound proof --key phone.pem --token "$token" --url https://api.test/payments/')
for expected in 200 '401 proof_replayed'; do
  : >"$RUN/error.log"
  status=$(by_hand 'curl -o "$RUN/body" -w "%{http_code}" -H "Authorization: DPoP $token" -H "DPoP: $proof" https://api.test/payments/')
  why=$(why)
  expect 'a proof' "$status${why:+ $why}" "$expected"
  [ "$status" != 200 ] || expect 'the upstream' "$(grep Authorization "$RUN/body")" "Authorization: Bearer $token"
done

# Beside auth_request, and then in place of it
steal='curl -o /dev/null -w "%{http_code}" --cert thief.crt --key thief.key -H "Authorization: Bearer $token" https://api.test/'
token=$(token client client)
for step in 's/x/x/:200 certificate_mismatch' 's/keybound report;/keybound on;/:401 certificate_mismatch' \
  's/keybound report;/keybound on;/; /auth_request/d; /oauth2/,/}/d; s/X-User .user/X-User $keybound_subject/:401 certificate_mismatch'; do
  serve_module 1 "${step%:*}" < <(block nginx 6)
  : >"$RUN/error.log"
  expect "${step%:*}" "$(by_hand "$steal") $(why)" "${step##*:}"
  answer >"$RUN/answer" || wrong "${step%:*}: no answer"
  grep -q '^user ' "$RUN/answer" || wrong "${step%:*}: $(<"$RUN/answer")"
done

[ $failed = 0 ] && echo 'docs/nginx.md works as written.'

# --- docs/dpop.md

page=dpop.md desk=$RUN/dpop
mkdir "$desk"
by_hand "$(block sh 1)" 2>"$desk/commands.log"
# try_proofs: a token, and the requests of the page
try_proofs() {
  local bound print
  token=$(by_hand "$(block sh 2 | filled | sed 's|mobile:secret|unbound:unbound-secret|')"'; printf %s "$token"')
  bound=$(by_hand "$(block sh 3 | sed -n 1p)" | sed -n 's/.*"jkt":"\([^"]*\)".*/\1/p')
  print=$(by_hand "$(block sh 3 | sed -n 2p)")
  [ -n "$bound$print" ] || wrong 'no thumbprints'
  expect 'the token is bound to' "$bound" "$print"
  proof=$(by_hand "$(block sh 4 | filled)"'; printf %s "$proof"')
  requests 5
}
serve_module 1 < <(page=nginx.md block nginx 1)
try_proofs
stop "$RUN/nginx.pid"
serve
try_proofs

[ $failed = 0 ] && echo 'docs/dpop.md works as written.'
exit $failed
