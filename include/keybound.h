/*
 * keybound: proof-of-possession checks for access tokens at the gateway (RFC 8705).
 * Generated from src/ffi by cbindgen; do not edit. SPDX-License-Identifier: Apache-2.0
 *
 * Conventions, for every function:
 *  1. Inputs are borrowed for the call only; nothing of them is kept.
 *  2. Output pointers are valid until the next call with that handle that is not const, or until it is freed; where it is longer,
 *     the function says so.
 *  3. Outputs are written only if the status is KB_OK; the error buffer only if it is KB_E_CONFIG (kb_engine_decide says what it
 *     writes otherwise).
 *  4. A status is 0 or negative and never a decision. Decisions are steps and reasons: compare them with ==, never test for truth.
 *  5. A handle is made by _new, freed once by _free; _free(NULL) does nothing; handles may be freed in any order.
 *  6. An engine and a verifier may be used by several threads at once, a check by one at a time.
 *  7. The library starts no thread, opens no file and no socket, reads no clock and installs no hook.
 *  8. A struct with struct_size may grow at its end: set all of it to 0, then struct_size to its sizeof. One of an earlier version is
 *     read as if the rest were 0, one of a later version as far as the library knows it.
 *  9. New functions may come with any version; KB_ABI_VERSION changes with every other change. Ask kb_abi_version() at load.
 *
 * The host's duty: after each call that returns KB_OK, read the step, do what it says exactly once, feed the answer back. Anything
 * but KB_STEP_ALLOW is a refusal, and so is an error, or stopping half way.
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

// The text is not a usable public key.
#define KB_E_KEY -6

// There is no such element: the index is past the end.
#define KB_E_RANGE -7

// The certificate of an `SSL *` was asked for, and this process has no OpenSSL that keybound can call.
#define KB_E_NO_OPENSSL -8

// Internal error. Nothing is allowed by a call that returns it; a check that it happened to in `kb_check_fetched()` or
// `kb_check_stored()` answers RESPOND from then on.
#define KB_E_PANIC -99

// Not a step: the handle is NULL or the call failed. Never an allow.
#define KB_STEP_INVALID 0

// Proxy the request, with the header changes that the check names.
#define KB_STEP_ALLOW 1

// Answer the client with the given status, challenge and body.
#define KB_STEP_RESPOND 2

// Perform one HTTPS request and feed the answer to `kb_check_fetched()`.
#define KB_STEP_FETCH 3

// Perform one operation on the shared store and feed the answer to `kb_check_stored()`.
#define KB_STEP_STORE 4

// The reason of an allowed request. All others are refusals: `kb_reason_code()` names them, docs/reasons.md explains them.
#define KB_REASON_ALLOWED 1

// A reason for `kb_engine_response()`: the host itself refused the client certificate.
#define KB_REASON_CERTIFICATE_REFUSED 69

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

// Set in `kb_facts.flags`: an allowed request's decision has a check that holds the claims.
#define KB_WANT_CLAIMS 2

// `kb_store.operation`: atomically insert if absent.
#define KB_STORE_ADD 1

// `kb_store.operation`: read.
#define KB_STORE_GET 2

// `kb_store.operation`: write.
#define KB_STORE_PUT 3

// `kb_store.operation`: delete.
#define KB_STORE_DELETE 4

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

// One request. One owner; used by one thread at a time. Holds what it needs of its engine.
typedef struct kb_check kb_check;

// The claims of a verified token.
typedef struct kb_claims kb_claims;

// Decides about requests. May be used by several threads at once; one for each nginx worker is the usual way.
typedef struct kb_engine kb_engine;

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

// An answer for the client.
typedef struct kb_response {
  // HTTP status; 0 where there is no response
  uint32_t status;
  // The one `WWW-Authenticate` value, or absent
  struct kb_str www_authenticate;
  // `Content-Type` of the body
  struct kb_str content_type;
  // The body
  struct kb_str body;
} kb_response;

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
} kb_facts;

// What is to be done with the request.
typedef struct kb_decision {
  // `sizeof(kb_decision)` as the caller compiled it
  size_t struct_size;
  // `KB_STEP_ALLOW`, `KB_STEP_RESPOND`, or what the check has to do first
  uint32_t step;
  // Why: `KB_REASON_ALLOWED` or the reason of the refusal, for the log; 0 while there are steps to take
  uint32_t reason;
  // The answer for the client with `KB_STEP_RESPOND`; its pointers are valid as long as the engine
  struct kb_response response;
  // A check that holds more, or NULL: the claims with `KB_WANT_CLAIMS`, headers for the upstream if some are configured, or the
  // next step. Free it with `kb_check_free()`
  struct kb_check *check;
} kb_decision;

// One HTTPS request to the authorization server. Follow no redirect, decompress nothing, verify the server.
typedef struct kb_fetch {
  // HTTP method
  struct kb_str method;
  // Absolute https URL
  struct kb_str url;
  // The body, or absent
  struct kb_str body;
  // Name of the client certificate to offer, or absent. Reuse a connection for the same one only.
  struct kb_str client_certificate;
  // Largest body to read, in bytes; a larger one is a failure
  size_t max_body;
  // Time for the whole exchange, in milliseconds
  uint32_t timeout_ms;
} kb_fetch;

// One operation on the store that all workers, and perhaps all nodes, share.
typedef struct kb_store {
  // `KB_STORE_ADD`, `KB_STORE_GET`, `KB_STORE_PUT` or `KB_STORE_DELETE`
  uint32_t operation;
  // How long the entry lives, in seconds
  uint32_t ttl_s;
  // The key: a hash, never a token
  struct kb_str key;
  // The value of `KB_STORE_ADD` and `KB_STORE_PUT`
  struct kb_str value;
} kb_store;

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

// Whether `kb_facts.ssl` can be used: this process has an OpenSSL with the functions that keybound calls.
//
// # Returns
// 1 or 0; 0 after an internal error.
uint32_t kb_ssl_supported(void);

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

// Frees an engine. NULL does nothing. Checks of the engine stay usable; responses in decisions do not.
//
// # Safety
// `engine` is NULL, or came from `kb_engine_new()`, is not freed yet and not in use.
void kb_engine_free(struct kb_engine *engine);

// What the operator should know of an accepted configuration, one sentence each: keys that are skipped, and why.
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
// what the client sent under these names must never reach the upstream.
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

// The answer for a client that the host itself refuses: one look and one set of messages for all refusals.
//
// # Arguments
// - `reason`: such as `KB_REASON_CERTIFICATE_REFUSED`
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
int32_t kb_engine_response(const struct kb_engine *engine, uint32_t reason, struct kb_response *response);

// Decides about a request: the one call of the hot path. It allocates nothing where the token is remembered, no claims are wanted
// and no upstream headers are configured.
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

// Why: `KB_REASON_ALLOWED`, or the reason of the refusal.
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

// The claims of an allowed token as JSON, exactly as the issuer signed them.
//
// # Arguments
// - `json`: receives the claims
//
// # Lifetimes
// Valid until the check is freed.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_ALLOW`.
//
// # Safety
// `check` is NULL or live; `json` is writable.
int32_t kb_check_claims(const struct kb_check *check, struct kb_str *json);

// A header of the allowed request: set it to the value, or remove it where the value is absent.
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

// The request to perform.
//
// # Arguments
// - `fetch`: receives the request; its headers are read with `kb_check_fetch_header()`
//
// # Lifetimes
// Valid until the next call with this check that is not const.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_FETCH`.
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

// Takes the answer to `KB_STEP_FETCH`; then read the next step.
//
// # Arguments
// - `now_s`: Unix time, seconds
// - `status`: HTTP status, or 0 where there was no complete answer
// - `content_type`: its `Content-Type`, or absent
// - `body`: its whole body, or absent; nothing of it is kept
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: no HTTP status; `KB_E_STATE`: the step is not `KB_STEP_FETCH`.
//
// # Safety
// `check` is NULL or live; the pointers have the given lengths.
int32_t kb_check_fetched(struct kb_check *check,
                         int64_t now_s,
                         uint32_t status,
                         struct kb_str content_type,
                         struct kb_str body);

// The store operation to perform.
//
// # Arguments
// - `store`: receives the operation
//
// # Lifetimes
// Valid until the next call with this check that is not const.
//
// # Errors
// `KB_E_NULL`; `KB_E_STATE`: the step is not `KB_STEP_STORE`.
//
// # Safety
// `check` is NULL or live; `store` is writable.
int32_t kb_check_store(const struct kb_check *check, struct kb_store *store);

// Takes the answer to `KB_STEP_STORE`; then read the next step.
//
// # Arguments
// - `now_s`: Unix time, seconds
// - `answer`: `KB_STORED`, `KB_STORE_EXISTS`, `KB_STORE_FOUND`, `KB_STORE_ABSENT` or `KB_STORE_FAILED`
// - `value`: the value with `KB_STORE_FOUND`, else absent; nothing of it is kept
//
// # Errors
// `KB_E_NULL`; `KB_E_ARGUMENT`: no such answer; `KB_E_STATE`: the step is not `KB_STEP_STORE`.
//
// # Safety
// `check` is NULL or live; the pointer has the given length.
int32_t kb_check_stored(struct kb_check *check, int64_t now_s, uint32_t answer, struct kb_str value);

// Frees a check. NULL does nothing.
//
// # Safety
// `check` is NULL, or came from this library and is not freed yet.
void kb_check_free(struct kb_check *check);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KEYBOUND_H */
