/*
 * keybound: proof-of-possession checks for access tokens at the gateway (RFC 8705, RFC 9449).
 * Generated from src/ffi by cbindgen; do not edit. SPDX-License-Identifier: Apache-2.0
 *
 * Conventions, for every function:
 *  1. Inputs are borrowed for the call only; nothing of them is kept.
 *  2. Output pointers are valid until the next call with that handle that is not const, or until it is freed; where it is longer,
 *     the function says so.
 *  3. Outputs are written only if the status is KB_OK; the error buffer only if it is KB_E_CONFIG or KB_E_TLS (kb_engine_decide
 *     says what it writes otherwise).
 *  4. A status is 0 or negative and never a decision. Decisions are steps and reasons: compare them with ==, never test for truth.
 *  5. A handle is made by _new, freed once by _free; _free(NULL) does nothing; handles may be freed in any order.
 *  6. An engine and a verifier may be used by several threads at once, a check by one at a time.
 *  7. The library starts no thread, opens no file and no socket, reads no clock and installs no hook. (In kb_tls_verify the host's
 *     own OpenSSL reads the clock.)
 *  8. A struct with struct_size may grow at its end: set all of it to 0, then struct_size to its sizeof. One of an earlier version is
 *     read as if the rest were 0, one of a later version as far as the library knows it.
 *  9. New functions may come with any version; KB_ABI_VERSION changes with every other change. Ask kb_abi_version() at load.
 *
 * The host's duty: after each call that returns KB_OK, read the step, do what it says exactly once, feed the answer back. Anything
 * but KB_STEP_ALLOW is a refusal, and so is an error, or stopping half way. KB_STEP_ALLOW with another reason than KB_REASON_ALLOWED is
 * a request that only the option report_only lets through: log it.
 *
 * Logins, sessions and grants: kb_engine_needs() then has KB_NEEDS_HTTP, and the host has a little more to do.
 *  - KB_NEEDS_HTTP: it sets kb_facts.http, and asks about every request of the host that browsers see. The paths of redirect_uri and
 *    logout_uri_suffix are answered by keybound itself, and need nothing behind them.
 *  - KB_NEEDS_FORM: it reads the body of a form first, and the upstream still gets it.
 *  - KB_NEEDS_STORE: it refuses to start without a store that all of its workers share, and all nodes that serve the same host.
 *  - KB_STEP_RESPOND may be a 302 or 200, too: with the reasons login_started, login_completed and logged_out nothing was refused, and
 *    the request does not go on all the same.
 *  - The headers of kb_check_response_header() go to the client with KB_STEP_RESPOND and with KB_STEP_ALLOW: location, cookies. Each
 *    set-cookie is a header of its own.
 *  - The headers of kb_check_header() take the place of what the client sent: authorization has the token that the upstream is to see,
 *    cookie what is left of the client's without keybound's own.
 * What else it takes, are steps: codes, passwords and refresh tokens travel by KB_STEP_FETCH, what is good once is noted by
 * KB_STEP_STORE. tests/c/login.c in the source is a whole host.
 */


#ifndef KEYBOUND_H
#define KEYBOUND_H

#include <stddef.h>
#include <stdint.h>

// The ABI that this header describes. A library with another number is not compatible: compare with `kb_abi_version()`.
#define KB_ABI_VERSION 1

// The call succeeded. Never a decision.
#define KB_OK 0

// A required pointer is NULL.
#define KB_E_NULL -1

// A value or a length is out of range, or a `struct_size` is too small.
#define KB_E_ARGUMENT -2

// The configuration is refused; the error buffer says why.
#define KB_E_CONFIG -3

// The call does not fit the current step.
#define KB_E_STATE -4

// The certificate is too large, or not exactly one.
#define KB_E_CERTIFICATE -5

// The text is not a usable public key, or a private key is not the one of the certificate.
#define KB_E_KEY -6

// There is no such element: the index is past the end.
#define KB_E_RANGE -7

// The certificate of an `SSL *` was asked for, and this process has no OpenSSL that keybound can call.
#define KB_E_NO_OPENSSL -8

// The server is not to be trusted; the error buffer says why.
#define KB_E_TLS -9

// The connection is older than TLS 1.2.
#define KB_E_TLS_VERSION -10

// What came from the server is not HTTP, or ended early.
#define KB_E_HTTP -11

// The server's answer is larger than asked for.
#define KB_E_TOO_LARGE -12

// Internal error. Nothing is allowed by a call that returns it; a check that was going on in `kb_check_fetched()` or
// `kb_check_stored()` answers RESPOND from then on, or with `report_only` ALLOW and the reason of an internal error.
#define KB_E_PANIC -99

// Not a step: the handle is NULL or the call failed. Never an allow.
#define KB_STEP_INVALID 0

// Proxy the request, with the header changes that the check names.
#define KB_STEP_ALLOW 1

// Answer the client with the given status, challenge, headers and body: a refusal, or what sends a browser on.
#define KB_STEP_RESPOND 2

// Perform one HTTPS request and feed the answer to `kb_check_fetched()`.
#define KB_STEP_FETCH 3

// Perform one operation on the shared store and feed the answer to `kb_check_stored()`.
#define KB_STEP_STORE 4

// The reason of an allowed request. With all others it does not go on, or only by `report_only`: `kb_reason_code()` names them,
// docs/reasons.md explains them.
#define KB_REASON_ALLOWED 1

// A reason for `kb_engine_response()`: a header that may come once came more than once.
#define KB_REASON_DUPLICATE_HEADER 13

// A reason for `kb_engine_response()`: the host itself refused the client certificate.
#define KB_REASON_CERTIFICATE_REFUSED 69

// A reason for `kb_engine_response()`: the host knows no consumer for the claims of an allowed token.
#define KB_REASON_CONSUMER_NOT_FOUND 83

// There is no certificate.
#define KB_CERT_NONE 0

// DER, exactly one certificate.
#define KB_CERT_DER 1

// PEM, exactly one `CERTIFICATE` block, as nginx's `$ssl_client_raw_cert` gives it.
#define KB_CERT_PEM 2

// Characters of a thumbprint, with the NUL behind it.
#define KB_THUMBPRINT_SIZE 44

// Set in `kb_facts.flags`: the request came in TLS 1.3 early data. Not needed with `ssl`, which tells it itself.
#define KB_FACT_EARLY_DATA 1

// Set in `kb_facts.flags`: an allowed request's decision has a check that holds the claims. One that passed by `report_only` has none.
#define KB_WANT_CLAIMS 2

// Set in `kb_setting.flags`: it holds only where the configuration does not have the option.
#define KB_SETTING_DEFAULT 1

// `kb_engine_needs()`: `kb_facts.http` must be set.
#define KB_NEEDS_HTTP 1

// `kb_engine_needs()`: `kb_http.form` must be set for the body of a form.
#define KB_NEEDS_FORM 2

// `kb_engine_needs()`: logins, sessions and proofs need the shared store. Without it nobody logs in, no token is refreshed, and no proof
// is taken.
#define KB_NEEDS_STORE 4

// `kb_engine_needs()`: steps can be `KB_STEP_FETCH`.
#define KB_NEEDS_FETCH 8

// `kb_engine_needs()`, with `KB_NEEDS_HTTP`: proofs are taken. Only for requests with the scheme `DPoP` they are looked for.
#define KB_NEEDS_PROOF 16

// `kb_engine_needs()`, with `KB_NEEDS_HTTP`: logins, sessions or grants are decided from `kb_facts.http`. Without it `kb_http` may be empty, but
// for its size, where the scheme is not `DPoP`.
#define KB_NEEDS_LOGIN 32

// `kb_engine_needs()`: `DPoP-Nonce` is to be removed from what the upstream answers: clients would take its nonces for this engine's, which
// they are given by `kb_check_response_header()`.
#define KB_NEEDS_FILTER 64

// `kb_answer.outcome`: a complete answer, whatever its status.
#define KB_FETCH_ANSWERED 1

// `kb_answer.outcome`: the name could not be resolved.
#define KB_FETCH_RESOLVE 2

// `kb_answer.outcome`: no connection.
#define KB_FETCH_CONNECT 3

// `kb_answer.outcome`: no TLS, or a server that is not to be trusted.
#define KB_FETCH_TLS 4

// `kb_answer.outcome`: a deadline passed.
#define KB_FETCH_TIMEOUT 5

// `kb_answer.outcome`: what came is not HTTP, or ended early.
#define KB_FETCH_MALFORMED 6

// `kb_answer.outcome`: the body is larger than `kb_fetch.max_body`.
#define KB_FETCH_TOO_LARGE 7

// `kb_answer.outcome`: the host cannot make the request now: too many are under way, or something that it needs is lacking.
#define KB_FETCH_BUSY 8

// `kb_store.operation`: atomically insert if absent.
#define KB_STORE_ADD 1

// `kb_store.operation`: read.
#define KB_STORE_GET 2

// `kb_store.operation`: write.
#define KB_STORE_PUT 3

// `kb_store.operation`: delete.
#define KB_STORE_DELETE 4

// Set in `kb_store.flags`, with `KB_STORE_PUT`: where there is no room, the entry may go before its time. It is fetched anew. All others are
// kept for all of theirs, or the store has failed.
#define KB_STORE_CACHE 1

// Answer to `KB_STORE_ADD`, `KB_STORE_PUT`, `KB_STORE_DELETE`: done.
#define KB_STORED 1

// Answer to `KB_STORE_ADD`: the key was there already.
#define KB_STORE_EXISTS 2

// Answer to `KB_STORE_GET`: here is the value.
#define KB_STORE_FOUND 3

// Answer to `KB_STORE_GET`: no such key.
#define KB_STORE_ABSENT 4

// Answer to all: the store did not answer, is full, or refused. Never give another answer instead.
#define KB_STORE_FAILED 5

// `kb_exchange_received()`: more is to come.
#define KB_EXCHANGE_MORE 1

// `kb_exchange_received()`: the answer is complete.
#define KB_EXCHANGE_DONE 2

// One request. One owner; used by one thread at a time. Holds what it needs of its engine.
typedef struct kb_check kb_check;

// The claims of a verified token.
typedef struct kb_claims kb_claims;

// Decides about requests. May be used by several threads at once; one for each nginx worker is the usual way.
typedef struct kb_engine kb_engine;

// One request and its answer on a connection that the host owns. One owner; used by one thread at a time.
typedef struct kb_exchange kb_exchange;

// Counters of engines, as they are written in OpenMetrics text. One owner; used by one thread at a time.
typedef struct kb_page kb_page;

// Certificates that are trusted to vouch for servers. May be used by several threads at once.
typedef struct kb_trust kb_trust;

// Decides about a token and a certificate. Immutable; may be used by several threads at once.
typedef struct kb_verifier kb_verifier;

// Bytes with a length; not NUL-terminated. As input: borrowed for the call only; `ptr` NULL means absent, `ptr` not NULL with
// `len` 0 means present and empty. As output: valid as the function says.
typedef struct kb_str {
  // First byte
  const uint8_t *ptr;
  // Number of bytes
  size_t len;
} kb_str;

// An option that the host has by its own means, besides the configuration.
typedef struct kb_setting {
  // The option (docs/configuration.md)
  struct kb_str name;
  // Its value as text: of an array one element, and as many settings as it is to have elements; of a number its digits, of a boolean `true`
  // or `false`, of anything else the string
  struct kb_str value;
  // `KB_SETTING_DEFAULT`; without it the option takes the place of what the configuration says
  uint32_t flags;
  // 0
  uint32_t reserved;
} kb_setting;

// How to connect to an authorization server. Set `struct_size` first; the rest is filled.
typedef struct kb_tls {
  // `sizeof(kb_tls)` as the caller compiled it
  size_t struct_size;
  // Name of the client certificate in the configuration, or absent: offer none
  struct kb_str name;
  // Its chain, or absent: the path of a PEM file, or PEM, which begins with `-----BEGIN`
  struct kb_str certificate;
  // Its private key, likewise
  struct kb_str private_key;
  // The CA certificates that vouch for the server, and no others, likewise; absent: those that the host trusts anyway
  struct kb_str trusted;
  // 1: verify the server's certificate and name; 0: the operator has turned that off
  uint32_t verify;
  // 0
  uint32_t reserved;
} kb_tls;

// An answer for the client.
typedef struct kb_response {
  // HTTP status; 0 where there is no response
  uint32_t status;
  // `Retry-After`, in seconds; 0: none
  uint32_t retry_after_s;
  // The `WWW-Authenticate` value, or absent
  struct kb_str www_authenticate;
  // `Content-Type` of the body
  struct kb_str content_type;
  // The body
  struct kb_str body;
} kb_response;

// A header.
typedef struct kb_header {
  // Its name
  struct kb_str name;
  // Its value
  struct kb_str value;
} kb_header;

// What of a request a login, a session or a proof is decided from. Set all of it to 0 first, then `struct_size`. What the request does not have is
// absent.
typedef struct kb_http {
  // `sizeof(kb_http)` as the caller compiled it
  size_t struct_size;
  // The method, `GET` for example
  struct kb_str method;
  // `Host`, or `:authority`, with the port where it has one
  struct kb_str host;
  // Path and query as the client sent them, before any rewriting: nginx's `$request_uri`
  struct kb_str target;
  // All `Cookie` headers, joined by a semicolon and a space
  struct kb_str cookie;
  // `Accept`
  struct kb_str accept;
  // `Origin`
  struct kb_str origin;
  // `Sec-Fetch-Site`
  struct kb_str fetch_site;
  // `Sec-Fetch-Mode`
  struct kb_str fetch_mode;
  // `Sec-Fetch-Dest`
  struct kb_str fetch_dest;
  // `Refresh-Token`
  struct kb_str refresh_token;
  // With `KB_NEEDS_FORM`: the body of a POST whose `Content-Type` is `application/x-www-form-urlencoded`, if it has at most 16 KiB
  struct kb_str form;
  // All headers of the request, as they came, instead of the members from `cookie` to `refresh_token`, and from `dpop` to
  // `forwarded_prefix`, which are then absent; or NULL
  const struct kb_header *headers;
  // How many these are
  size_t headers_n;
  // `https` or `http`: that of the connection
  struct kb_str scheme;
  // The address at the other end of the connection, whatever a header says: nginx's `$realip_remote_addr`
  struct kb_str peer;
  // What no other request has, on whatever node, if one request may be decided about more than once (internal redirects); else absent:
  // its proof is used once for all of these decisions
  struct kb_str request;
  // `DPoP`
  struct kb_str dpop;
  // `X-Forwarded-Proto`
  struct kb_str forwarded_proto;
  // `X-Forwarded-Host`
  struct kb_str forwarded_host;
  // `X-Forwarded-Port`
  struct kb_str forwarded_port;
  // `X-Forwarded-Prefix`
  struct kb_str forwarded_prefix;
  // How many `DPoP` headers came; 0 with `headers`
  uint32_t dpop_n;
  // 0
  uint32_t reserved;
  // What `kb_check_spent()` gave last when this very request was let through before: the same proof is then held against the time of its
  // first use, whatever the upstream took before it redirected the request; absent: it gave nothing
  struct kb_str spent;
} kb_http;

// The facts of one request. Set all of it to 0 first, then `struct_size`.
typedef struct kb_facts {
  // `sizeof(kb_facts)` as the caller compiled it
  size_t struct_size;
  // Unix time, seconds; greater than 0
  int64_t now_s;
  // The value of the `Authorization` header, without white space around it; absent: there is none
  struct kb_str authorization;
  // The query of the request target, without the question mark; a token there is refused
  struct kb_str query;
  // The certificate of the connection, if `ssl` is NULL; absent with `KB_CERT_NONE`: there is none
  struct kb_str client_cert;
  // The connection's `SSL *` in the process's OpenSSL (`kb_ssl_supported()`), or NULL: the certificate and early data are read from
  // it, and the thumbprint is remembered in it
  void *ssl;
  // `KB_CERT_NONE`, `KB_CERT_DER` or `KB_CERT_PEM`: what `client_cert` is
  uint32_t client_cert_form;
  // How many `Authorization` headers came
  uint32_t authorization_n;
  // `KB_FACT_EARLY_DATA`, `KB_WANT_CLAIMS`
  uint32_t flags;
  // 0
  uint32_t reserved;
  // What logins, sessions and proofs are decided from; NULL only where `kb_engine_needs()` has no `KB_NEEDS_HTTP`
  const struct kb_http *http;
} kb_facts;

// What is to be done with the request.
typedef struct kb_decision {
  // `sizeof(kb_decision)` as the caller compiled it
  size_t struct_size;
  // `KB_STEP_ALLOW`, `KB_STEP_RESPOND`, or what the check has to do first
  uint32_t step;
  // Why: `KB_REASON_ALLOWED` or the reason of the refusal, for the log; 0 while there are steps to take. With `KB_STEP_ALLOW` another
  // one than `KB_REASON_ALLOWED`: the request would be refused for it, and passes by `report_only`, with no claims and no headers
  uint32_t reason;
  // The answer for the client with `KB_STEP_RESPOND`; its pointers are valid as long as the engine, and where there is a check, as long
  // as the check. With a check it may have headers: `kb_check_response_header()`
  struct kb_response response;
  // A check that holds more, or NULL: the claims with `KB_WANT_CLAIMS`, headers to be set or removed if some are configured
  // (`upstream_headers_names`, `hide_credentials`, `downstream_headers_names`), the next step, or the detail or headers of a refusal.
  // Not NULL where a request passes and claims or headers were asked for, or by a proof, and with `KB_NEEDS_LOGIN` where any passes. Free
  // it with `kb_check_free()`
  struct kb_check *check;
  // The first four octets of the token's SHA-256, for the log: 0 where the reason is `KB_REASON_ALLOWED`, or there is no token
  uint32_t token_id;
  // 0
  uint32_t reserved;
} kb_decision;

// One HTTPS request to the authorization server. Follow no redirect, decompress nothing, verify the server as `tls` says. Set
// `struct_size` first; the rest is filled.
typedef struct kb_fetch {
  // `sizeof(kb_fetch)` as the caller compiled it
  size_t struct_size;
  // HTTP method
  struct kb_str method;
  // Absolute https URL
  struct kb_str url;
  // The body, or absent
  struct kb_str body;
  // The issuer, for logs
  struct kb_str issuer;
  // "metadata", "jwks", "introspection", "token", "revocation" or "par", for logs
  struct kb_str endpoint;
  // 32 octets. Two fetches of one engine with the same are the same request: while one is under way, let its answer serve both
  struct kb_str flight;
  // Largest body to read, in bytes; a larger one is `KB_FETCH_TOO_LARGE`
  size_t max_body;
  // How to connect: the index for `kb_engine_tls()`. Reuse a connection for the same one only
  uint32_t tls;
  // For the TCP connection, and again for the TLS handshake, in milliseconds
  uint32_t connect_timeout_ms;
  // Between two writes, in milliseconds
  uint32_t send_timeout_ms;
  // Between two reads, in milliseconds
  uint32_t read_timeout_ms;
  // For the whole exchange, in milliseconds. A host that has fewer deadlines keeps at least this one
  uint32_t timeout_ms;
  // 1: what it sends is good once. Send it at most once, over a new connection: one that was kept may end without an answer, and then
  // nobody knows whether it counted. 0: it may be sent again if a kept connection ends before the answer begins
  uint32_t once;
  // Host of the URL, with the port where the URL has one
  struct kb_str authority;
  // Path and query of the URL, as they are written; `/` where it has neither
  struct kb_str target;
} kb_fetch;

// What came of a `kb_fetch`. Set all of it to 0 first, then `struct_size`.
typedef struct kb_answer {
  // `sizeof(kb_answer)` as the caller compiled it
  size_t struct_size;
  // `KB_FETCH_ANSWERED`, or how it failed
  uint32_t outcome;
  // HTTP status; 0 unless answered
  uint32_t status;
  // `Content-Type`, or absent
  struct kb_str content_type;
  // `Retry-After`, or absent
  struct kb_str retry_after;
  // The whole body, or absent
  struct kb_str body;
  // How long it took, in microseconds
  uint32_t elapsed_us;
  // 1: the answer of another check's fetch with the same `flight`
  uint32_t joined;
} kb_answer;

// One operation on the store that all workers, and perhaps all nodes, share. Set `struct_size` first; the rest is filled.
typedef struct kb_store {
  // `sizeof(kb_store)` as the caller compiled it
  size_t struct_size;
  // `KB_STORE_ADD`, `KB_STORE_GET`, `KB_STORE_PUT` or `KB_STORE_DELETE`
  uint32_t operation;
  // How long the entry lives, in seconds; at least 1
  uint32_t ttl_s;
  // Wait so long before, in milliseconds: another worker is about to write it
  uint32_t delay_ms;
  // `KB_STORE_CACHE`
  uint32_t flags;
  // The key, 32 octets: a hash, never a token
  struct kb_str key;
  // The value of `KB_STORE_ADD` and `KB_STORE_PUT`, else absent. What was fetched is sealed: who reads the store learns nothing
  struct kb_str value;
} kb_store;

// What a counter counts, in the terms of OpenMetrics. Set `struct_size` first; the rest is filled.
typedef struct kb_counter {
  // `sizeof(kb_counter)` as the caller compiled it
  size_t struct_size;
  // The metric family
  struct kb_str family;
  // Its type: "counter" or "histogram"
  struct kb_str kind;
  // What it is, in a sentence
  struct kb_str help;
  // The sample: name and labels, as they are written on the page
  struct kb_str sample;
  // What the value is to be divided by on the page
  uint32_t divisor;
  // 0
  uint32_t reserved;
} kb_counter;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ABI of the loaded library.
//
// # Returns
// `KB_ABI_VERSION` of the header that it was built with; 0 after an internal error.
uint32_t kb_abi_version(void);

// The version of the loaded library.
//
// # Returns
// A NUL-terminated string such as "0.1.0", or NULL after an internal error.
//
// # Lifetimes
// Static.
const char *kb_version(void);

// A sentence for a status.
//
// # Arguments
// - `status`: what a function of this library returned
//
// # Returns
// A NUL-terminated string; "unknown status" for a number that is none; NULL after an internal error.
//
// # Lifetimes
// Static.
const char *kb_strerror(int32_t status);

// The stable code of a reason, as logged.
//
// # Arguments
// - `reason`: a number that this library gave
//
// # Returns
// A NUL-terminated string such as "certificate_mismatch"; NULL for a number that is no reason.
//
// # Lifetimes
// Static.
const char *kb_reason_code(uint32_t reason);

// Whether a reason says that the request did not prove possession: a host must not treat such a request as anonymous.
//
// # Arguments
// - `reason`: a number that this library gave
//
// # Returns
// 1 or 0; 1 for a number that is no reason, and after an internal error.
uint32_t kb_reason_is_binding(uint32_t reason);

// Whether `kb_facts.ssl` can be used: this process has an OpenSSL with the functions that keybound calls.
//
// # Returns
// 1 or 0; 0 after an internal error.
uint32_t kb_ssl_supported(void);

// Whether a server's connection asks its client for a certificate, or has asked: one that was never asked has none to show.
//
// # Arguments
// - `ssl`: the connection's `SSL *` of the OpenSSL that this process uses
//
// # Returns
// 1: it asks or asked; it has one; or its session was resumed, which does not tell. 0: it was never asked.
//
// # Errors
// `KB_E_NULL`; `KB_E_NO_OPENSSL`.
//
// # Safety
// `ssl` is NULL, or a live connection that no other thread uses meanwhile.
int32_t kb_ssl_asks_certificate(void *ssl);

// The SHA-256 thumbprint of the certificate that the client of a connection showed, as in `x5t#S256` (RFC 8705 §3.1).
//
// # Arguments
// - `ssl`: the connection's `SSL *` of the OpenSSL that this process uses; what is found is remembered in it
// - `out`: `KB_THUMBPRINT_SIZE` bytes, filled with 43 characters of base64url and a NUL
//
// # Errors
// `KB_E_NULL`; `KB_E_NO_OPENSSL`; `KB_E_STATE`: the handshake is not complete, so no key is proved; `KB_E_RANGE`: there is no certificate;
// `KB_E_CERTIFICATE`: one that is too large.
//
// # Safety
// `ssl` is NULL, or a live connection that no other thread uses meanwhile; `out` has room.
int32_t kb_ssl_thumbprint(void *ssl,
                          uint8_t (*out)[KB_THUMBPRINT_SIZE]);

// The SHA-256 thumbprint of a certificate, as in `x5t#S256` (RFC 8705 §3.1). The certificate is not parsed: its exact bytes are hashed.
//
// # Arguments
// - `cert`, `cert_len`: the certificate, at most 16 KiB of DER
// - `form`: `KB_CERT_DER` or `KB_CERT_PEM`
// - `out`: `KB_THUMBPRINT_SIZE` bytes, filled with 43 characters of base64url and a NUL
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: an unknown form; `KB_E_CERTIFICATE`: too large, or not exactly one certificate.
//
// # Safety
// `cert` has `cert_len` readable bytes, `out` has room.
int32_t kb_certificate_thumbprint(const uint8_t *cert,
                                  size_t cert_len,
                                  uint32_t form,
                                  uint8_t (*out)[KB_THUMBPRINT_SIZE]);

// The SHA-256 thumbprint of a public key (RFC 7638), as in `jkt`.
//
// # Arguments
// - `jwk`, `jwk_len`: an RSA, EC or Ed25519 key as JSON
// - `out`: `KB_THUMBPRINT_SIZE` bytes, filled with 43 characters of base64url and a NUL
//
// # Errors
// `KB_E_NULL`; `KB_E_KEY`: not a usable public key.
//
// # Safety
// `jwk` has `jwk_len` readable bytes, `out` has room.
int32_t kb_jwk_thumbprint(const uint8_t *jwk, size_t jwk_len, uint8_t (*out)[KB_THUMBPRINT_SIZE]);

// Whether a `cnf` claim is that of a certificate (RFC 8705 §3.1), compared in constant time.
//
// # Arguments
// - `cnf`, `cnf_len`: the value of the claim as JSON, from a token or an introspection response that was verified; NULL: the token has none
// - `cert`, `cert_len`, `form`: the certificate of the connection; NULL with `KB_CERT_NONE`: there is none
// - `reason`: `KB_REASON_ALLOWED` if they match, else the reason of the refusal
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: an unknown form; `KB_E_CERTIFICATE`: too large, or not exactly one certificate.
//
// # Safety
// `cnf` has `cnf_len` readable bytes, `cert` has `cert_len`, `reason` is writable.
int32_t kb_confirmation_match(const uint8_t *cnf,
                              size_t cnf_len,
                              const uint8_t *cert,
                              size_t cert_len,
                              uint32_t form,
                              uint32_t *reason);

// Makes a verifier.
//
// # Arguments
// - `config`, `config_len`: the configuration as JSON (docs/configuration.md)
// - `verifier`: receives the handle
// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_CONFIG`, cut to fit, not NUL-terminated; may be NULL
// - `errbuf_len`: receives the whole length of the message; may be NULL
//
// # Returns
// `KB_OK`; free the handle with `kb_verifier_free()`.
//
// # Errors
// `KB_E_NULL`; `KB_E_CONFIG`.
//
// # Safety
// `config` has `config_len` readable bytes, `errbuf` has `errbuf_cap` writable ones, `verifier` and `errbuf_len` are writable.
int32_t kb_verifier_new(const uint8_t *config,
                        size_t config_len,
                        struct kb_verifier **verifier,
                        uint8_t *errbuf,
                        size_t errbuf_cap,
                        size_t *errbuf_len);

// Frees a verifier. NULL does nothing.
//
// # Safety
// `verifier` is NULL, or came from `kb_verifier_new()`, is not freed yet and not in use.
void kb_verifier_free(struct kb_verifier *verifier);

// Verifies a token against a certificate: signature, claims, binding (RFC 9068 §4, RFC 8705 §3). How the token was sent is not looked at.
//
// # Arguments
// - `verifier`: the verifier
// - `token`, `token_len`: the access token, without scheme
// - `cert`, `cert_len`, `form`: the certificate of the connection; NULL with `KB_CERT_NONE`: there is none
// - `now_s`: Unix time, seconds; greater than 0
// - `reason`: `KB_REASON_ALLOWED`, or the reason of the refusal
// - `claims`: receives the claims of an allowed token, NULL otherwise; may be NULL if they are not wanted
//
// # Returns
// `KB_OK` if a decision was made: read it from `reason`. Free the claims with `kb_claims_free()`.
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: an unknown form, or `now_s` is not set.
//
// # Safety
// The pointers have the given lengths; `reason` is writable, `claims` NULL or writable.
int32_t kb_verifier_verify(const struct kb_verifier *verifier,
                           const uint8_t *token,
                           size_t token_len,
                           const uint8_t *cert,
                           size_t cert_len,
                           uint32_t form,
                           int64_t now_s,
                           uint32_t *reason,
                           struct kb_claims **claims);

// The claims as JSON, exactly as the issuer signed them.
//
// # Lifetimes
// Valid until the claims are freed.
//
// # Errors
// `KB_E_NULL`.
//
// # Safety
// `claims` came from `kb_verifier_verify()` and is not freed; `json` is writable.
int32_t kb_claims_json(const struct kb_claims *claims, struct kb_str *json);

// Frees claims. NULL does nothing.
//
// # Safety
// `claims` is NULL, or came from `kb_verifier_verify()` and is not freed yet.
void kb_claims_free(struct kb_claims *claims);

// Makes an engine.
//
// # Arguments
// - `config`, `config_len`: the configuration as JSON (docs/configuration.md)
// - `engine`: receives the handle
// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_CONFIG`, cut to fit, not NUL-terminated; may be NULL
// - `errbuf_len`: receives the whole length of the message; may be NULL
//
// # Returns
// `KB_OK`; free the handle with `kb_engine_free()`.
//
// # Errors
// `KB_E_NULL`; `KB_E_CONFIG`.
//
// # Safety
// `config` has `config_len` readable bytes, `errbuf` has `errbuf_cap` writable ones, `engine` and `errbuf_len` are writable.
int32_t kb_engine_new(const uint8_t *config,
                      size_t config_len,
                      struct kb_engine **engine,
                      uint8_t *errbuf,
                      size_t errbuf_cap,
                      size_t *errbuf_len);

// Makes an engine from a configuration and options that the host has by its own means, such as nginx's directives.
//
// # Arguments
// - `config`, `config_len`, `engine`, `errbuf`, `errbuf_cap`, `errbuf_len`: as for `kb_engine_new()`
// - `settings`, `count`: the options; `settings` may be NULL if `count` is 0
//
// # Returns
// `KB_OK`; free the handle with `kb_engine_free()`.
//
// # Errors
// `KB_E_NULL`; `KB_E_CONFIG`; `KB_E_ARGUMENT`: an unknown flag, `reserved` is not 0, or text that is not UTF-8.
//
// # Safety
// As for `kb_engine_new()`; `settings` has `count` elements, whose pointers have the given lengths.
int32_t kb_engine_new_with(const uint8_t *config,
                           size_t config_len,
                           const struct kb_setting *settings,
                           size_t count,
                           struct kb_engine **engine,
                           uint8_t *errbuf,
                           size_t errbuf_cap,
                           size_t *errbuf_len);

// Frees an engine. NULL does nothing. Checks of the engine stay usable; responses in decisions do not.
//
// # Safety
// `engine` is NULL, or came from `kb_engine_new()`, is not freed yet and not in use.
void kb_engine_free(struct kb_engine *engine);

// What the operator should know of an accepted configuration, one sentence each: keys that are skipped, and why; checks that are off.
//
// # Arguments
// - `index`: from 0, until `KB_E_RANGE`
// - `warning`: receives the sentence
//
// # Lifetimes
// Valid until the engine is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_RANGE`.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `warning` is writable.
int32_t kb_engine_warning(const struct kb_engine *engine,
                          size_t index,
                          struct kb_str *warning);

// The headers that an allowed request may carry upstream. Remove each from every request before anything else, on every path:
// what the client sent under these names must never reach the upstream. `Authorization` and `Cookie` are never among
// them: it is `kb_check_header()` that replaces or removes these, after the decision.
//
// # Arguments
// - `index`: from 0, until `KB_E_RANGE`
// - `name`: receives the header name
//
// # Lifetimes
// Valid until the engine is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_RANGE`.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `name` is writable.
int32_t kb_engine_upstream_header(const struct kb_engine *engine,
                                  size_t index,
                                  struct kb_str *name);

// How to connect to authorization servers: `kb_fetch.tls` is one of these. Load what they name when the engine is made, and refuse to
// start if that fails; a host that runs for long looks at the files again, since certificates are renewed.
//
// # Arguments
// - `index`: from 0, until `KB_E_RANGE`
// - `tls`: set `struct_size`; the rest is filled
//
// # Lifetimes
// Valid until the engine is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_RANGE`.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `tls` is writable.
int32_t kb_engine_tls(const struct kb_engine *engine,
                      size_t index,
                      struct kb_tls *tls);

// Whether steps can be `KB_STEP_STORE`: the configuration has a `store_secret`. A host without a store answers `KB_STORE_FAILED`;
// with `KB_NEEDS_STORE` it does not start.
//
// # Returns
// 1 or 0; 0 for NULL and after an internal error.
//
// # Safety
// `engine` is NULL, or came from `kb_engine_new()` and is not freed.
uint32_t kb_engine_shares(const struct kb_engine *engine);

// What the engine needs of a host besides the facts that each request has.
//
// # Returns
// `KB_NEEDS_HTTP`, `KB_NEEDS_FORM`, `KB_NEEDS_STORE`, `KB_NEEDS_FETCH`, `KB_NEEDS_PROOF`, `KB_NEEDS_LOGIN` and `KB_NEEDS_FILTER`, as far as
// they apply; 0 for NULL and after an internal error.
//
// # Safety
// `engine` is NULL, or came from `kb_engine_new()` and is not freed.
uint32_t kb_engine_needs(const struct kb_engine *engine);

// Whether the engine only reports (`report_only`): what it would refuse passes. A host that refuses by itself has to look at this by itself.
//
// # Returns
// 1 or 0; 0 for NULL and after an internal error.
//
// # Safety
// `engine` is NULL, or came from `kb_engine_new()` and is not freed.
uint32_t kb_engine_report_only(const struct kb_engine *engine);

// The answer for a client that the host itself refuses, which is counted: one look and one set of messages for all refusals, as to a request
// without a proof. With
// `report_only` there is an answer too, and it counts as a report: whether to give it is the host's to decide (`kb_engine_report_only()`).
//
// # Arguments
// - `reason`: such as `KB_REASON_CERTIFICATE_REFUSED`, `KB_REASON_DUPLICATE_HEADER`, `KB_REASON_CONSUMER_NOT_FOUND`
// - `response`: receives the answer
//
// # Lifetimes
// Valid until the engine is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_RANGE`: the number is no reason of a refusal.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `response` is writable.
int32_t kb_engine_response(const struct kb_engine *engine,
                           uint32_t reason,
                           struct kb_response *response);

// Decides about a request: the one call of the hot path. It allocates nothing where the token is remembered, no claims are wanted
// and no headers are configured.
//
// # Arguments
// - `engine`: the engine
// - `facts`: the facts of the request; nothing of it is kept
// - `decision`: set `struct_size`; the rest is filled
//
// # Returns
// `KB_OK` if a decision was made. Only `decision->step == KB_STEP_ALLOW` lets the request through.
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: a `struct_size` is too small, `now_s` is not set, `authorization` came without `authorization_n`, an unknown
// form or flag, or a certificate beside `ssl`; `KB_E_NO_OPENSSL`.
// `decision->step` is then `KB_STEP_INVALID` if `decision` could be written.
//
// # Safety
// The pointers in `facts` have the given lengths; `ssl` is NULL or a live connection that no other thread uses meanwhile.
int32_t kb_engine_decide(const struct kb_engine *engine,
                         const struct kb_facts *facts,
                         struct kb_decision *decision);

// What the host does next.
//
// # Returns
// `KB_STEP_ALLOW`, `KB_STEP_RESPOND`, `KB_STEP_FETCH` or `KB_STEP_STORE`; `KB_STEP_INVALID` for NULL and after an internal error.
//
// # Safety
// `check` is NULL, or came from this library and is not freed.
uint32_t kb_check_step(const struct kb_check *check);

// Why: `KB_REASON_ALLOWED`, or the reason of the refusal. A request that passes by `report_only` has `KB_STEP_ALLOW` and a refusal's reason.
//
// # Returns
// The reason; 0 for NULL, while there are steps to take, and after an internal error.
//
// # Safety
// `check` is NULL, or came from this library and is not freed.
uint32_t kb_check_reason(const struct kb_check *check);

// The answer for the client.
//
// # Arguments
// - `response`: receives the answer
//
// # Lifetimes
// Valid until the check is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_RESPOND`.
//
// # Safety
// `check` is NULL or live; `response` is writable.
int32_t kb_check_response(const struct kb_check *check, struct kb_response *response);

// What the log should say besides the reason: what the authorization server did wrong, or of an allowed request that a check was skipped.
// Holds no token, secret or claim.
//
// # Arguments
// - `detail`: receives a sentence, or absent
//
// # Lifetimes
// Valid until the check is freed.
//
// # Errors
// `KB_E_NULL`.
//
// # Safety
// `check` is NULL or live; `detail` is writable.
int32_t kb_check_detail(const struct kb_check *check,
                        struct kb_str *detail);

// What names the proof that an allowed request used, and when, for `kb_http.spent` should this very request be decided about again
// (internal redirects).
//
// # Arguments
// - `spent`: receives 40 octets, which mean nothing to others, or absent: the request used no proof that a store noted
//
// # Lifetimes
// Valid until the check is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`: the request passes by `report_only` alone.
//
// # Safety
// `check` is NULL or live; `spent` is writable.
int32_t kb_check_spent(const struct kb_check *check,
                       struct kb_str *spent);

// The claims of an allowed token as JSON, exactly as its issuer gave them.
//
// # Arguments
// - `json`: receives the claims
//
// # Lifetimes
// Valid until the check is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`: the request passes by `report_only` alone, and has no claims.
//
// # Safety
// `check` is NULL or live; `json` is writable.
int32_t kb_check_claims(const struct kb_check *check,
                        struct kb_str *json);

// A claim of an allowed token, as the text that a header would have: strings, numbers and booleans as they are, the rest as JSON.
//
// # Arguments
// - `name`, `name_len`: the claim
// - `value`: receives the text
//
// # Lifetimes
// Valid until the next call with this check that is not const.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`: the token has no such claim, or one that has control characters or
// cannot be told exactly; or the request passes by `report_only` alone, and has no claims.
//
// # Safety
// `check` is NULL or live; `name` has `name_len` readable bytes, `value` is writable.
int32_t kb_check_claim(struct kb_check *check,
                       const uint8_t *name,
                       size_t name_len,
                       struct kb_str *value);

// A header of the allowed request: set it to the value, or remove it where the value is absent. Other headers of the client's stay, those
// of `kb_engine_upstream_header()` aside. A request that passes by `report_only` has none.
//
// # Arguments
// - `index`: from 0, until `KB_E_RANGE`
// - `name`, `value`: receive the header; both are written or neither
//
// # Lifetimes
// Valid until the check is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`; `KB_E_RANGE`.
//
// # Safety
// `check` is NULL or live; `name` and `value` are writable.
int32_t kb_check_header(const struct kb_check *check,
                        size_t index,
                        struct kb_str *name,
                        struct kb_str *value);

// A header for the client, with `KB_STEP_ALLOW` and with `KB_STEP_RESPOND`: cookies, and where to go on, among others. `set-cookie` is added to
// what the upstream says, and there may be several; any other is sent with this value, whatever the upstream said under that name. A
// request that passes by `report_only` has none.
//
// # Arguments
// - `index`: from 0, until `KB_E_RANGE`
// - `name`, `value`: receive the header; both are written or neither
//
// # Lifetimes
// Valid until the check is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is neither `KB_STEP_ALLOW` nor `KB_STEP_RESPOND`; `KB_E_RANGE`.
//
// # Safety
// `check` is NULL or live; `name` and `value` are writable.
int32_t kb_check_response_header(const struct kb_check *check,
                                 size_t index,
                                 struct kb_str *name,
                                 struct kb_str *value);

// The request to perform.
//
// # Arguments
// - `fetch`: set `struct_size`; the rest is filled. Headers are read with `kb_check_fetch_header()`
//
// # Lifetimes
// Valid until the next call with this check that is not const.
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_STATE`: the step is not `KB_STEP_FETCH`.
//
// # Safety
// `check` is NULL or live; `fetch` is writable.
int32_t kb_check_fetch(const struct kb_check *check, struct kb_fetch *fetch);

// A header of the request to perform.
//
// # Arguments
// - `index`: from 0, until `KB_E_RANGE`
// - `name`, `value`: receive the header; both are written or neither
//
// # Lifetimes
// Valid until the next call with this check that is not const.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_FETCH`; `KB_E_RANGE`.
//
// # Safety
// `check` is NULL or live; `name` and `value` are writable.
int32_t kb_check_fetch_header(const struct kb_check *check,
                              size_t index,
                              struct kb_str *name,
                              struct kb_str *value);

// Takes the answer to `KB_STEP_FETCH`; then read the next step. A body that is larger than was asked for makes it `KB_FETCH_TOO_LARGE`.
//
// # Arguments
// - `now_s`: Unix time, seconds; greater than 0
// - `answer`: what came; nothing of it is kept
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small, `now_s` is not set, no such outcome, or an answer without an HTTP status;
// `KB_E_STATE`: the step is not `KB_STEP_FETCH`.
//
// # Safety
// `check` is NULL or live; `answer` is NULL or has the `struct_size` that it says, and its pointers the given lengths.
int32_t kb_check_fetched(struct kb_check *check,
                         int64_t now_s,
                         const struct kb_answer *answer);

// The store operation to perform.
//
// # Arguments
// - `store`: set `struct_size`; the rest is filled
//
// # Lifetimes
// Valid until the next call with this check that is not const.
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_STATE`: the step is not `KB_STEP_STORE`.
//
// # Safety
// `check` is NULL or live; `store` is writable.
int32_t kb_check_store(const struct kb_check *check, struct kb_store *store);

// Takes the answer to `KB_STEP_STORE`; then read the next step.
//
// # Arguments
// - `now_s`: Unix time, seconds; greater than 0
// - `answer`: `KB_STORED`, `KB_STORE_EXISTS`, `KB_STORE_FOUND`, `KB_STORE_ABSENT` or `KB_STORE_FAILED`
// - `value`: the value with `KB_STORE_FOUND`, else absent; nothing of it is kept
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: no such answer, or `now_s` is not set; `KB_E_STATE`: the step is not `KB_STEP_STORE`.
//
// # Safety
// `check` is NULL or live; the pointer has the given length.
int32_t kb_check_stored(struct kb_check *check,
                        int64_t now_s,
                        uint32_t answer,
                        struct kb_str value);

// Frees a check. NULL does nothing.
//
// # Safety
// `check` is NULL, or came from this library and is not freed yet.
void kb_check_free(struct kb_check *check);

// Frames the request of a check whose step is `KB_STEP_FETCH`. The check is not needed afterwards.
//
// # Arguments
// - `exchange`: receives the handle
//
// # Returns
// `KB_OK`; free the handle with `kb_exchange_free()`.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is another one; `KB_E_HTTP`: the URL or a header cannot be sent.
//
// # Safety
// `check` is NULL or live; `exchange` is writable.
int32_t kb_exchange_new(const struct kb_check *check, struct kb_exchange **exchange);

// Where to connect to.
//
// # Arguments
// - `host`: receives the host: a name, or an IP address without brackets
// - `port`: receives the port
//
// # Lifetimes
// Valid until the exchange is freed.
//
// # Errors
// `KB_E_NULL`.
//
// # Safety
// `exchange` is NULL or live; `host` and `port` are writable.
int32_t kb_exchange_target(const struct kb_exchange *exchange, struct kb_str *host, uint32_t *port);

// The bytes to send, all of them.
//
// # Arguments
// - `request`: receives the bytes
//
// # Lifetimes
// Valid until the exchange is freed.
//
// # Errors
// `KB_E_NULL`.
//
// # Safety
// `exchange` is NULL or live; `request` is writable.
int32_t kb_exchange_request(const struct kb_exchange *exchange, struct kb_str *request);

// Takes bytes as they came.
//
// # Arguments
// - `data`, `data_len`: what came
// - `state`: receives `KB_EXCHANGE_MORE` or `KB_EXCHANGE_DONE`
//
// # Errors
// `KB_E_NULL`; `KB_E_HTTP`, `KB_E_TOO_LARGE`: close the connection, there will be no answer.
//
// # Safety
// `exchange` is NULL or live; `data` has `data_len` readable bytes; `state` is writable.
int32_t kb_exchange_received(struct kb_exchange *exchange,
                             const uint8_t *data,
                             size_t data_len,
                             uint32_t *state);

// The server closed the connection, cleanly: after TLS `close_notify`. If it merely ended, the exchange has failed.
//
// # Arguments
// - `state`: receives `KB_EXCHANGE_DONE`
//
// # Errors
// `KB_E_NULL`; `KB_E_HTTP`: the answer is not complete.
//
// # Safety
// `exchange` is NULL or live; `state` is writable.
int32_t kb_exchange_closed(struct kb_exchange *exchange,
                           uint32_t *state);

// The complete answer, ready for `kb_check_fetched()` but for `elapsed_us` and `joined`.
//
// # Arguments
// - `answer`: set `struct_size`; the rest is filled
//
// # Lifetimes
// Valid until the exchange is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_STATE`: it is not complete.
//
// # Safety
// `exchange` is NULL or live; `answer` is writable.
int32_t kb_exchange_answer(const struct kb_exchange *exchange, struct kb_answer *answer);

// Whether the connection may carry another request.
//
// # Returns
// 1 or 0; 0 for NULL and after an internal error.
//
// # Safety
// `exchange` is NULL or live.
uint32_t kb_exchange_reusable(const struct kb_exchange *exchange);

// Frees an exchange. NULL does nothing.
//
// # Safety
// `exchange` is NULL, or came from this library and is not freed yet.
void kb_exchange_free(struct kb_exchange *exchange);

// What the counter at `index` counts. Counters of one family lie next to each other.
//
// # Arguments
// - `index`: from 0, until `KB_E_RANGE`
// - `counter`: set `struct_size`; the rest is filled
//
// # Lifetimes
// Valid until the engine is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_RANGE`.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `counter` is writable.
int32_t kb_engine_counter(const struct kb_engine *engine, size_t index, struct kb_counter *counter);

// The values of all counters. They only ever grow, in this process: to sum up processes, add what they grew by.
//
// # Arguments
// - `values`: receives them, in the order of `kb_engine_counter()`
// - `count`: room in `values`; if it is not enough, nothing is written
// - `needed`: receives how many there are
//
// # Errors
// `KB_E_NULL`; `KB_E_RANGE`: there are more than `count`.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `values` has room for `count`; `needed` is writable.
int32_t kb_engine_counters(const struct kb_engine *engine,
                           uint64_t *values,
                           size_t count,
                           size_t *needed);

// A name for what the engine counts: engines with the same one have the same counters in the same order.
//
// # Arguments
// - `name`: receives 32 octets, which are no key of `kb_store`
//
// # Errors
// `KB_E_NULL`.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `name` has room.
int32_t kb_engine_counters_name(const struct kb_engine *engine, uint8_t (*name)[32]);

// Adds what the counters grew by since the last call to sums that processes share, by atomic additions.
//
// # Arguments
// - `sums`, `count`: as many as `kb_engine_counters()` gives, in its order; 0 in the beginning
//
// # Errors
// `KB_E_NULL`; `KB_E_RANGE`: `count` is not how many there are; `KB_E_ARGUMENT`: `sums` is not aligned to 8 octets.
//
// # Safety
// `engine` came from `kb_engine_new()` and is not freed; `sums` has `count` elements, which nobody writes but by atomic additions meanwhile.
int32_t kb_engine_publish(const struct kb_engine *engine,
                          uint64_t *sums,
                          size_t count);

// Makes an empty page.
//
// # Arguments
// - `page`: receives the handle
//
// # Returns
// `KB_OK`; free the handle with `kb_page_free()`.
//
// # Errors
// `KB_E_NULL`.
//
// # Safety
// `page` is writable.
int32_t kb_page_new(struct kb_page **page);

// Puts the counters of an engine on the page. Where another engine has the same sample, the page has the sum.
//
// # Arguments
// - `values`, `count`: the values, of all processes together, in the order of `kb_engine_counter()`
//
// # Errors
// `KB_E_NULL`; `KB_E_RANGE`: `count` is not how many there are.
//
// # Safety
// `page` and `engine` are live; `values` has `count` elements.
int32_t kb_page_add(struct kb_page *page,
                    const struct kb_engine *engine,
                    const uint64_t *values,
                    size_t count);

// The page. Counters that never counted are left out; a histogram is there with all its buckets.
//
// # Arguments
// - `text`: receives the text, whose type is `application/openmetrics-text; version=1.0.0; charset=utf-8`
//
// # Lifetimes
// Valid until the next call with this page.
//
// # Errors
// `KB_E_NULL`.
//
// # Safety
// `page` is live; `text` is writable.
int32_t kb_page_text(struct kb_page *page, struct kb_str *text);

// Frees a page. NULL does nothing.
//
// # Safety
// `page` is NULL, or came from `kb_page_new()` and is not freed yet.
void kb_page_free(struct kb_page *page);

// Reads the certificates that are trusted to vouch for servers. The host's OpenSSL must be there already.
//
// # Arguments
// - `pem`, `pem_len`: one or more certificates in PEM
// - `trust`: receives the handle
// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_CONFIG`, cut to fit, not NUL-terminated; may be NULL
// - `errbuf_len`: receives the whole length of the message; may be NULL
//
// # Returns
// `KB_OK`; free the handle with `kb_trust_free()`.
//
// # Errors
// `KB_E_NULL`; `KB_E_CONFIG`: none, or one that cannot be read; `KB_E_NO_OPENSSL`.
//
// # Safety
// `pem` has `pem_len` readable bytes, `errbuf` has `errbuf_cap` writable ones, `trust` and `errbuf_len` are writable.
int32_t kb_trust_new(const uint8_t *pem,
                     size_t pem_len,
                     struct kb_trust **trust,
                     uint8_t *errbuf,
                     size_t errbuf_cap,
                     size_t *errbuf_len);

// Frees trusted certificates. NULL does nothing.
//
// # Safety
// `trust` is NULL, or came from `kb_trust_new()`, is not freed yet and not in use.
void kb_trust_free(struct kb_trust *trust);

// Verifies the server of a connection whose handshake is done: TLS 1.2 or later; its certificate, with the chain that it sent,
// ends at a trusted one, is in its time and for servers; and it has the host's name or IP address in its subjectAltName.
//
// # Arguments
// - `trust`: the trusted certificates; NULL: the chain is not looked at, because the host has verified it
// - `session`: the `SSL_SESSION *` of the client's side, of the OpenSSL that this process uses
// - `host`, `host_len`: name or IP address (without brackets) that was connected to; NULL, with `trust` NULL: only the version is
//   looked at
// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_TLS`, cut to fit, not NUL-terminated; may be NULL
// - `errbuf_len`: receives the whole length of the message; may be NULL
//
// # Returns
// `KB_OK` if the server is the one that was meant.
//
// # Errors
// `KB_E_NULL`: no session, or `trust` without `host`; `KB_E_TLS`; `KB_E_TLS_VERSION`; `KB_E_NO_OPENSSL`.
//
// # Safety
// `trust` is NULL, or came from `kb_trust_new()` and is not freed; `session` is live; `host` has `host_len` readable bytes,
// `errbuf` has `errbuf_cap` writable ones, `errbuf_len` is NULL or writable.
int32_t kb_tls_verify(const struct kb_trust *trust,
                      void *session,
                      const uint8_t *host,
                      size_t host_len,
                      uint8_t *errbuf,
                      size_t errbuf_cap,
                      size_t *errbuf_len);

// Whether a private key belongs to the first certificate of a chain.
//
// # Arguments
// - `chain`: a `STACK_OF(X509) *` of the OpenSSL that this process uses, as lua-resty-core's `parse_pem_cert` gives it
// - `key`: an `EVP_PKEY *` of it, as `parse_pem_priv_key` gives it
//
// # Returns
// `KB_OK` if it does.
//
// # Errors
// `KB_E_NULL`; `KB_E_KEY`: it does not; `KB_E_NO_OPENSSL`.
//
// # Safety
// Both are NULL or live.
int32_t kb_tls_pair(void *chain,
                    void *key);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KEYBOUND_H */
