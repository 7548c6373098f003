/* For tests of hosts: an engine needs what its configuration names (http, form, store), and each request gets what its query says:
 *   allow            goes on; else it is answered with the facts, with the status 302, 200, 401 or 400
 *   none             no check; plain: a check without headers for the client
 *   remove           the upstream gets no Authorization
 *   detail           there is something to say */
#include "keybound.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The query, and what is answered: the facts, each on a line, or the length of what is long. */
static char asked[64], facts_seen[65536];
static int frees;

static struct kb_str of(const char *s) { return (struct kb_str){ (const uint8_t *)s, strlen(s) }; }
static int is(const char *word) { return strstr(asked, word) != NULL; }

uint32_t kb_engine_needs(const struct kb_engine *e) { return *(const uint32_t *)e; }

int32_t kb_engine_new(const uint8_t *c, size_t n, struct kb_engine **e, uint8_t *b, size_t m, size_t *l) {
  (void)b; (void)m; (void)l;
  uint32_t *needs = malloc(sizeof(*needs));
  *needs = (memmem(c, n, "http", 4) ? KB_NEEDS_HTTP | KB_NEEDS_LOGIN : 0) | (memmem(c, n, "form", 4) ? KB_NEEDS_FORM : 0)
    | (memmem(c, n, "store\"", 6) ? KB_NEEDS_STORE : 0);
  *e = (struct kb_engine *)needs;
  return KB_OK;
}

static void tell(const char *name, struct kb_str s) {
  size_t n = strlen(facts_seen);
  if (s.ptr != NULL && s.len > 256) {
    snprintf(facts_seen + n, sizeof(facts_seen) - n, "%s: %zu bytes of %c\n", name, s.len, s.ptr[s.len - 1]);
  } else if (s.ptr != NULL) {
    snprintf(facts_seen + n, sizeof(facts_seen) - n, "%s: %.*s\n", name, (int)s.len, (const char *)s.ptr);
  }
}

const char *kb_reason_code(uint32_t reason) {
  return reason == KB_REASON_ALLOWED ? "allowed" : reason == 100 ? "login_started" : reason == 102 ? "logged_out" : "login_state_missing";
}

int32_t kb_check_claims(const struct kb_check *c, struct kb_str *s) { (void)c; *s = of("{\"sub\":\"user-1\"}"); return KB_OK; }

int32_t kb_check_detail(const struct kb_check *c, struct kb_str *s) {
  (void)c;
  *s = is("detail") ? of("something was not checked") : (struct kb_str){ NULL, 0 };
  return KB_OK;
}

int32_t kb_check_header(const struct kb_check *c, size_t i, struct kb_str *n, struct kb_str *v) {
  static const char *headers[][2] = { { "authorization", "Bearer of-the-session" }, { "cookie", NULL } };
  (void)c;
  if (i >= 2) {
    return KB_E_RANGE;
  }
  *n = of(headers[i][0]);
  *v = headers[i][1] && !is("remove") ? of(headers[i][1]) : (struct kb_str){ NULL, 0 };
  return KB_OK;
}

int32_t kb_check_response_header(const struct kb_check *c, size_t i, struct kb_str *n, struct kb_str *v) {
  static const char *headers[][2] = {
    { "set-cookie", "one=secret-1; Path=/" }, { "location", "https://as.test/auth?a=b&c=%2F" }, { "set-cookie", "two=secret-2; Path=/" },
    { "set-cookie", "three=secret-3; Path=/" }, { "x-other", "of the engine" },
  };
  static const int of_allowed[] = { 0, 4, 2, 3 };
  (void)c;
  if (is("plain") || i >= (is("allow") ? 4 : 5)) {
    return KB_E_RANGE;
  }
  if (is("allow")) {
    i = (size_t)of_allowed[i];
  }
  *n = of(headers[i][0]);
  *v = of(headers[i][1]);
  return KB_OK;
}

void kb_check_free(struct kb_check *c) { (void)c; frees++; }

int32_t kb_engine_response(const struct kb_engine *e, uint32_t reason, struct kb_response *r) {
  (void)e; (void)reason;
  *r = (struct kb_response){ .status = 403, .content_type = of("text/plain"), .body = of("no") };
  return KB_OK;
}

int32_t kb_engine_decide(const struct kb_engine *e, const struct kb_facts *f, struct kb_decision *d) {
  const struct kb_http *h = f->http;
  snprintf(asked, sizeof(asked), "%.*s", (int)f->query.len, f->query.ptr ? (const char *)f->query.ptr : "");
  facts_seen[0] = 0;
  if (kb_engine_needs(e)) {
    if (h == NULL || h->struct_size != sizeof(*h)) {
      return KB_E_ARGUMENT;
    }
    tell("method", h->method); tell("host", h->host); tell("target", h->target); tell("cookie", h->cookie); tell("accept", h->accept);
    tell("origin", h->origin); tell("site", h->fetch_site); tell("mode", h->fetch_mode); tell("dest", h->fetch_dest);
    tell("refresh_token", h->refresh_token); tell("form", h->form);
  }
  d->check = is("none") ? NULL : (struct kb_check *)&frees;
  d->reason = KB_REASON_ALLOWED;
  d->step = KB_STEP_ALLOW;
  if (!is("allow")) {
    d->step = KB_STEP_RESPOND;
    d->reason = is("302") ? 100 : is("200") ? 102 : 110;
    d->response.status = is("302") ? 302 : is("200") ? 200 : is("401") ? 401 : 400;
    d->response.content_type = of(is("200") ? "text/html; charset=utf-8" : "text/plain");
    d->response.body = of(facts_seen);
  }
  return KB_OK;
}
