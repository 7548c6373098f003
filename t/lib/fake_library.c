/* What a libkeybound.so does that a block's `fake_library` says nothing of: it is of this version, makes engines that need nothing, and knows
 * nothing else. */

#pragma weak kb_abi_version
#pragma weak kb_version
#pragma weak kb_strerror
#pragma weak kb_reason_code
#pragma weak kb_reason_is_binding
#pragma weak kb_ssl_supported
#pragma weak kb_engine_new
#pragma weak kb_engine_free
#pragma weak kb_engine_warning
#pragma weak kb_engine_upstream_header
#pragma weak kb_engine_tls
#pragma weak kb_engine_needs
#pragma weak kb_engine_report_only
#pragma weak kb_engine_response
#pragma weak kb_check_claims
#pragma weak kb_check_detail
#pragma weak kb_check_header
#pragma weak kb_check_response_header
#pragma weak kb_check_free

#include "keybound.h"
#include <stdlib.h>

uint32_t kb_abi_version(void) { return KB_ABI_VERSION; }
const char *kb_version(void) { return "1.0.0"; }
const char *kb_strerror(int32_t status) { (void)status; return "the fake fails"; }
const char *kb_reason_code(uint32_t reason) { (void)reason; return "fake"; }
uint32_t kb_reason_is_binding(uint32_t reason) { (void)reason; return 0; }
uint32_t kb_ssl_supported(void) { return 0; }

int32_t kb_engine_new(const uint8_t *c, size_t n, struct kb_engine **e, uint8_t *b, size_t m, size_t *l) {
  (void)c; (void)n; (void)b; (void)m; (void)l;
  *e = malloc(1);
  return KB_OK;
}

void kb_engine_free(struct kb_engine *e) { free(e); }
int32_t kb_engine_warning(const struct kb_engine *e, size_t i, struct kb_str *w) { (void)e; (void)i; (void)w; return KB_E_RANGE; }
int32_t kb_engine_upstream_header(const struct kb_engine *e, size_t i, struct kb_str *n) { (void)e; (void)i; (void)n; return KB_E_RANGE; }
int32_t kb_engine_tls(const struct kb_engine *e, size_t i, struct kb_tls *t) { (void)e; (void)i; (void)t; return KB_E_RANGE; }
uint32_t kb_engine_needs(const struct kb_engine *e) { (void)e; return 0; }
uint32_t kb_engine_report_only(const struct kb_engine *e) { (void)e; return 0; }
int32_t kb_engine_response(const struct kb_engine *e, uint32_t reason, struct kb_response *r) { (void)e; (void)reason; (void)r; return KB_E_STATE; }
int32_t kb_check_claims(const struct kb_check *c, struct kb_str *s) { (void)c; (void)s; return KB_E_STATE; }
int32_t kb_check_detail(const struct kb_check *c, struct kb_str *s) { (void)c; (void)s; return KB_E_STATE; }

int32_t kb_check_header(const struct kb_check *c, size_t i, struct kb_str *n, struct kb_str *v) {
  (void)c; (void)i; (void)n; (void)v;
  return KB_E_RANGE;
}

int32_t kb_check_response_header(const struct kb_check *c, size_t i, struct kb_str *n, struct kb_str *v) {
  (void)c; (void)i; (void)n; (void)v;
  return KB_E_RANGE;
}

void kb_check_free(struct kb_check *c) { (void)c; }
