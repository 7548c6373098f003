-- Generated from include/keybound.h (`make header`); do not edit.
local ffi = require "ffi"

-- Declared once in a process: LuaJIT keeps the first declaration and says nothing.
if not pcall(ffi.typeof, "kb_engine") then
  ffi.cdef [[
typedef struct kb_check kb_check;
typedef struct kb_claims kb_claims;
typedef struct kb_engine kb_engine;
typedef struct kb_exchange kb_exchange;
typedef struct kb_page kb_page;
typedef struct kb_trust kb_trust;
typedef struct kb_verifier kb_verifier;
typedef struct kb_str {
  const uint8_t *ptr;
  size_t len;
} kb_str;
typedef struct kb_setting {
  struct kb_str name;
  struct kb_str value;
  uint32_t flags;
  uint32_t reserved;
} kb_setting;
typedef struct kb_tls {
  size_t struct_size;
  struct kb_str name;
  struct kb_str certificate;
  struct kb_str private_key;
  struct kb_str trusted;
  uint32_t verify;
  uint32_t reserved;
} kb_tls;
typedef struct kb_response {
  uint32_t status;
  uint32_t retry_after_s;
  struct kb_str www_authenticate;
  struct kb_str content_type;
  struct kb_str body;
} kb_response;
typedef struct kb_header {
  struct kb_str name;
  struct kb_str value;
} kb_header;
typedef struct kb_http {
  size_t struct_size;
  struct kb_str method;
  struct kb_str host;
  struct kb_str target;
  struct kb_str cookie;
  struct kb_str accept;
  struct kb_str origin;
  struct kb_str fetch_site;
  struct kb_str fetch_mode;
  struct kb_str fetch_dest;
  struct kb_str refresh_token;
  struct kb_str form;
  const struct kb_header *headers;
  size_t headers_n;
  struct kb_str scheme;
  struct kb_str peer;
  struct kb_str request;
  struct kb_str dpop;
  struct kb_str forwarded_proto;
  struct kb_str forwarded_host;
  struct kb_str forwarded_port;
  struct kb_str forwarded_prefix;
  uint32_t dpop_n;
  uint32_t reserved;
  struct kb_str spent;
} kb_http;
typedef struct kb_facts {
  size_t struct_size;
  int64_t now_s;
  struct kb_str authorization;
  struct kb_str query;
  struct kb_str client_cert;
  void *ssl;
  uint32_t client_cert_form;
  uint32_t authorization_n;
  uint32_t flags;
  uint32_t reserved;
  const struct kb_http *http;
} kb_facts;
typedef struct kb_decision {
  size_t struct_size;
  uint32_t step;
  uint32_t reason;
  struct kb_response response;
  struct kb_check *check;
  uint32_t token_id;
  uint32_t reserved;
} kb_decision;
typedef struct kb_fetch {
  size_t struct_size;
  struct kb_str method;
  struct kb_str url;
  struct kb_str body;
  struct kb_str issuer;
  struct kb_str endpoint;
  struct kb_str flight;
  size_t max_body;
  uint32_t tls;
  uint32_t connect_timeout_ms;
  uint32_t send_timeout_ms;
  uint32_t read_timeout_ms;
  uint32_t timeout_ms;
  uint32_t once;
  struct kb_str authority;
  struct kb_str target;
} kb_fetch;
typedef struct kb_answer {
  size_t struct_size;
  uint32_t outcome;
  uint32_t status;
  struct kb_str content_type;
  struct kb_str retry_after;
  struct kb_str body;
  uint32_t elapsed_us;
  uint32_t joined;
} kb_answer;
typedef struct kb_store {
  size_t struct_size;
  uint32_t operation;
  uint32_t ttl_s;
  uint32_t delay_ms;
  uint32_t flags;
  struct kb_str key;
  struct kb_str value;
} kb_store;
typedef struct kb_counter {
  size_t struct_size;
  struct kb_str family;
  struct kb_str kind;
  struct kb_str help;
  struct kb_str sample;
  uint32_t divisor;
  uint32_t reserved;
} kb_counter;
uint32_t kb_abi_version(void);
const char *kb_version(void);
const char *kb_strerror(int32_t status);
const char *kb_reason_code(uint32_t reason);
uint32_t kb_reason_is_binding(uint32_t reason);
uint32_t kb_ssl_supported(void);
int32_t kb_ssl_asks_certificate(void *ssl);
int32_t kb_ssl_thumbprint(void *ssl,
                          uint8_t (*out)[44]);
int32_t kb_certificate_thumbprint(const uint8_t *cert,
                                  size_t cert_len,
                                  uint32_t form,
                                  uint8_t (*out)[44]);
int32_t kb_jwk_thumbprint(const uint8_t *jwk, size_t jwk_len, uint8_t (*out)[44]);
int32_t kb_confirmation_match(const uint8_t *cnf,
                              size_t cnf_len,
                              const uint8_t *cert,
                              size_t cert_len,
                              uint32_t form,
                              uint32_t *reason);
int32_t kb_verifier_new(const uint8_t *config,
                        size_t config_len,
                        struct kb_verifier **verifier,
                        uint8_t *errbuf,
                        size_t errbuf_cap,
                        size_t *errbuf_len);
void kb_verifier_free(struct kb_verifier *verifier);
int32_t kb_verifier_verify(const struct kb_verifier *verifier,
                           const uint8_t *token,
                           size_t token_len,
                           const uint8_t *cert,
                           size_t cert_len,
                           uint32_t form,
                           int64_t now_s,
                           uint32_t *reason,
                           struct kb_claims **claims);
int32_t kb_claims_json(const struct kb_claims *claims, struct kb_str *json);
void kb_claims_free(struct kb_claims *claims);
int32_t kb_engine_new(const uint8_t *config,
                      size_t config_len,
                      struct kb_engine **engine,
                      uint8_t *errbuf,
                      size_t errbuf_cap,
                      size_t *errbuf_len);
int32_t kb_engine_new_with(const uint8_t *config,
                           size_t config_len,
                           const struct kb_setting *settings,
                           size_t count,
                           struct kb_engine **engine,
                           uint8_t *errbuf,
                           size_t errbuf_cap,
                           size_t *errbuf_len);
void kb_engine_free(struct kb_engine *engine);
int32_t kb_engine_warning(const struct kb_engine *engine,
                          size_t index,
                          struct kb_str *warning);
int32_t kb_engine_upstream_header(const struct kb_engine *engine,
                                  size_t index,
                                  struct kb_str *name);
int32_t kb_engine_tls(const struct kb_engine *engine,
                      size_t index,
                      struct kb_tls *tls);
uint32_t kb_engine_shares(const struct kb_engine *engine);
uint32_t kb_engine_needs(const struct kb_engine *engine);
uint32_t kb_engine_report_only(const struct kb_engine *engine);
int32_t kb_engine_response(const struct kb_engine *engine,
                           uint32_t reason,
                           struct kb_response *response);
int32_t kb_engine_decide(const struct kb_engine *engine,
                         const struct kb_facts *facts,
                         struct kb_decision *decision);
uint32_t kb_check_step(const struct kb_check *check);
uint32_t kb_check_reason(const struct kb_check *check);
int32_t kb_check_response(const struct kb_check *check, struct kb_response *response);
int32_t kb_check_detail(const struct kb_check *check,
                        struct kb_str *detail);
int32_t kb_check_spent(const struct kb_check *check,
                       struct kb_str *spent);
int32_t kb_check_claims(const struct kb_check *check,
                        struct kb_str *json);
int32_t kb_check_claim(struct kb_check *check,
                       const uint8_t *name,
                       size_t name_len,
                       struct kb_str *value);
int32_t kb_check_header(const struct kb_check *check,
                        size_t index,
                        struct kb_str *name,
                        struct kb_str *value);
int32_t kb_check_response_header(const struct kb_check *check,
                                 size_t index,
                                 struct kb_str *name,
                                 struct kb_str *value);
int32_t kb_check_fetch(const struct kb_check *check, struct kb_fetch *fetch);
int32_t kb_check_fetch_header(const struct kb_check *check,
                              size_t index,
                              struct kb_str *name,
                              struct kb_str *value);
int32_t kb_check_fetched(struct kb_check *check,
                         int64_t now_s,
                         const struct kb_answer *answer);
int32_t kb_check_store(const struct kb_check *check, struct kb_store *store);
int32_t kb_check_stored(struct kb_check *check,
                        int64_t now_s,
                        uint32_t answer,
                        struct kb_str value);
void kb_check_free(struct kb_check *check);
int32_t kb_exchange_new(const struct kb_check *check, struct kb_exchange **exchange);
int32_t kb_exchange_target(const struct kb_exchange *exchange, struct kb_str *host, uint32_t *port);
int32_t kb_exchange_request(const struct kb_exchange *exchange, struct kb_str *request);
int32_t kb_exchange_received(struct kb_exchange *exchange,
                             const uint8_t *data,
                             size_t data_len,
                             uint32_t *state);
int32_t kb_exchange_closed(struct kb_exchange *exchange,
                           uint32_t *state);
int32_t kb_exchange_answer(const struct kb_exchange *exchange, struct kb_answer *answer);
uint32_t kb_exchange_reusable(const struct kb_exchange *exchange);
void kb_exchange_free(struct kb_exchange *exchange);
int32_t kb_engine_counter(const struct kb_engine *engine, size_t index, struct kb_counter *counter);
int32_t kb_engine_counters(const struct kb_engine *engine,
                           uint64_t *values,
                           size_t count,
                           size_t *needed);
int32_t kb_engine_counters_name(const struct kb_engine *engine, uint8_t (*name)[32]);
int32_t kb_engine_publish(const struct kb_engine *engine,
                          uint64_t *sums,
                          size_t count);
int32_t kb_page_new(struct kb_page **page);
int32_t kb_page_add(struct kb_page *page,
                    const struct kb_engine *engine,
                    const uint64_t *values,
                    size_t count);
int32_t kb_page_text(struct kb_page *page, struct kb_str *text);
void kb_page_free(struct kb_page *page);
int32_t kb_trust_new(const uint8_t *pem,
                     size_t pem_len,
                     struct kb_trust **trust,
                     uint8_t *errbuf,
                     size_t errbuf_cap,
                     size_t *errbuf_len);
void kb_trust_free(struct kb_trust *trust);
int32_t kb_tls_verify(const struct kb_trust *trust,
                      void *session,
                      const uint8_t *host,
                      size_t host_len,
                      uint8_t *errbuf,
                      size_t errbuf_cap,
                      size_t *errbuf_len);
int32_t kb_tls_pair(void *chain,
                    void *key);
]]
end

return {
  ABI_VERSION = 1,
  OK = 0,
  E_NULL = -1,
  E_ARGUMENT = -2,
  E_CONFIG = -3,
  E_STATE = -4,
  E_CERTIFICATE = -5,
  E_KEY = -6,
  E_RANGE = -7,
  E_NO_OPENSSL = -8,
  E_TLS = -9,
  E_TLS_VERSION = -10,
  E_HTTP = -11,
  E_TOO_LARGE = -12,
  E_PANIC = -99,
  STEP_INVALID = 0,
  STEP_ALLOW = 1,
  STEP_RESPOND = 2,
  STEP_FETCH = 3,
  STEP_STORE = 4,
  REASON_ALLOWED = 1,
  REASON_DUPLICATE_HEADER = 13,
  REASON_CERTIFICATE_REFUSED = 69,
  REASON_CONSUMER_NOT_FOUND = 83,
  CERT_NONE = 0,
  CERT_DER = 1,
  CERT_PEM = 2,
  THUMBPRINT_SIZE = 44,
  FACT_EARLY_DATA = 1,
  WANT_CLAIMS = 2,
  SETTING_DEFAULT = 1,
  NEEDS_HTTP = 1,
  NEEDS_FORM = 2,
  NEEDS_STORE = 4,
  NEEDS_FETCH = 8,
  NEEDS_PROOF = 16,
  NEEDS_LOGIN = 32,
  NEEDS_FILTER = 64,
  FETCH_ANSWERED = 1,
  FETCH_RESOLVE = 2,
  FETCH_CONNECT = 3,
  FETCH_TLS = 4,
  FETCH_TIMEOUT = 5,
  FETCH_MALFORMED = 6,
  FETCH_TOO_LARGE = 7,
  FETCH_BUSY = 8,
  STORE_ADD = 1,
  STORE_GET = 2,
  STORE_PUT = 3,
  STORE_DELETE = 4,
  STORE_CACHE = 1,
  STORED = 1,
  STORE_EXISTS = 2,
  STORE_FOUND = 3,
  STORE_ABSENT = 4,
  STORE_FAILED = 5,
  EXCHANGE_MORE = 1,
  EXCHANGE_DONE = 2,
}
