#!/usr/bin/env bash
# Makes the certificates of the demo and the tests.
#
#   pki.sh DIR                        all of them; does nothing when DIR is complete
#   pki.sh --short NAME SECONDS DIR   one more client certificate in DIR, by its CA, that expires SECONDS from now
set -euo pipefail
umask 077

# openssl 3.0 sets exact dates only with `openssl ca`, which wants a configuration and a database: both live here.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/index.txt"
cat >"$work/cnf" <<CNF
[req]
distinguished_name = dn
prompt = no
[dn]
[ca]
default_ca = sign
[sign]
database = $work/index.txt
new_certs_dir = $work
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
[v3_ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[v3_client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
[v3_server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = \${ENV::SAN}
CNF
export SAN=DNS:localhost,IP:127.0.0.1

utc() { date -u -d "@$1" +%Y%m%d%H%M%SZ; }
now=$(date +%s)
from=$(utc $((now - 60)))
to=$(utc $((now + 3650 * 86400)))

# key FILE [ALGORITHM]
key() {
  case ${2-p256} in
    p256) openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" ;;
    rsa) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1" ;;
    ed25519) openssl genpkey -algorithm ed25519 -out "$1" ;;
  esac
}

# self NAME CN SECTION [ALGORITHM]: a certificate that signs itself
self() {
  key "$dir/$1.key" "${4-p256}"
  openssl req -x509 -new -config "$work/cnf" -subj "/CN=$2" -extensions "$3" -days 3650 -key "$dir/$1.key" -out "$dir/$1.crt"
}

# leaf NAME CA SECTION [ALGORITHM [FROM TO]]: a certificate by a CA, CN=NAME
leaf() {
  key "$dir/$1.key" "${4-p256}"
  openssl req -new -config "$work/cnf" -subj "/CN=$1" -key "$dir/$1.key" -out "$work/$1.csr"
  if ! openssl ca -batch -notext -config "$work/cnf" -cert "$dir/$2.crt" -keyfile "$dir/$2.key" -extensions "$3" \
    -startdate "${5-$from}" -enddate "${6-$to}" -in "$work/$1.csr" -out "$dir/$1.crt" 2>"$work/log"; then
    cat "$work/log" >&2
    return 1
  fi
}

if [ "${1-}" = --short ]; then
  dir=${4:?usage: pki.sh --short NAME SECONDS DIR}
  leaf "$2" ca v3_client p256 "$from" "$(utc $((now + $3)))"
  exit
fi

dir=${1:?usage: pki.sh DIR}
# Complete means: made by this very version of the script, to the end.
version=$(sha256sum <"$0")
[ "$(cat "$dir/.complete" 2>/dev/null)" != "$version" ] || exit 0
mkdir -p "$dir"

self ca "keybound test CA" v3_ca
self other-ca "another CA" v3_ca

SAN=DNS:localhost,IP:127.0.0.1,DNS:api.test,DNS:a.test,DNS:b.test leaf server ca v3_server
leaf as ca v3_server
leaf as2 other-ca v3_server
leaf as-expired ca v3_server p256 "$(utc $((now - 30 * 86400)))" "$(utc $((now - 86400)))"
SAN=DNS:elsewhere.test leaf as-wrong-name ca v3_server

leaf client ca v3_client
leaf rsa ca v3_client rsa
leaf ed25519 ca v3_client ed25519
leaf expired ca v3_client p256 "$(utc $((now - 30 * 86400)))" "$(utc $((now - 86400)))"
leaf thief other-ca v3_client
self self-signed self-signed v3_client
self same-name client v3_client

# Of those who ask the authorization server about tokens
leaf gateway ca v3_client
leaf gateway-b ca v3_client
self gateway-self-signed gateway-self-signed v3_client
key "$dir/gateway-key-rsa.key" rsa
key "$dir/gateway-key-ec.key"
key "$dir/gateway-key-ed25519.key" ed25519

# Of those who log users in
leaf web ca v3_client
leaf web-par ca v3_client
self web-self-signed web-self-signed v3_client

# For who must get an answer of any of the servers
cat "$dir/ca.crt" "$dir/other-ca.crt" >"$dir/roots.crt"

printf '%s\n' "$version" >"$dir/.complete"
