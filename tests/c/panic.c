/*
 * A panic behind each export comes back as an error: run against the release library built with `panic-injection`.
 *
 *     panic DIRECTORY     with the files that mint wrote
 *     panic --list        prints the exports that are tried
 */

#define _POSIX_C_SOURCE 200809L

#include "../../examples/c/input.h"
#include "test.h"


#define NOW       1700000000
#define REPORT    "{\"issuer\":\"https://as.example\",\"audience_required\":[\"https://api.example\"],\"report_only\":true}"
#define DISCOVER  "{\"issuer\":\"https://as.example\",\"audience_required\":[\"https://api.example\"]}"


static uint8_t       config[4096], token[4096], header[4096], cert[4096], name[32], out[KB_THUMBPRINT_SIZE];
static size_t        config_len, token_len, message_len, counters_n, n;
static kb_str        der, s, t;
static kb_tls        tls;
static uint32_t      form, reason, number;
static uint64_t      values[4096];
static kb_facts      facts;
static kb_fetch      fetch;
static kb_store      store;
static kb_check     *check, *waiting;
static kb_answer     failed, answer;
static kb_claims    *claims, *new_claims;
static kb_engine    *engine, *discovering, *reporting, *new_engine;
static kb_counter    counter;
static kb_exchange  *exchange, *new_exchange;
static kb_page      *page, *new_page;
static kb_trust     *new_trust;
static kb_verifier  *verifier, *new_verifier;
static kb_decision   decision;
static kb_response   response;


static int
decide_panics(void)
{
    /* An ALLOW of the last request lies there still. */

    return decision.step == KB_STEP_ALLOW
           && kb_engine_decide(engine, &facts, &decision) == KB_E_PANIC
           && decision.step == KB_STEP_INVALID && decision.reason == 0 && decision.check == NULL
           && decision.response.status == 0 && decision.response.body.ptr == NULL;
}


/* A free function that panics returns; what it was to free may be lost. */

#define RETURNS(call)  (call, 1)


#define EXPORTS(X) \
    X(kb_abi_version, kb_abi_version() == 0) \
    X(kb_version, kb_version() == NULL) \
    X(kb_strerror, kb_strerror(KB_OK) == NULL) \
    X(kb_reason_code, kb_reason_code(KB_REASON_ALLOWED) == NULL) \
    X(kb_reason_is_binding, kb_reason_is_binding(KB_REASON_ALLOWED) == 1) \
    X(kb_ssl_supported, kb_ssl_supported() == 0) \
    X(kb_ssl_asks_certificate, kb_ssl_asks_certificate(&s) == KB_E_PANIC) \
    X(kb_ssl_thumbprint, kb_ssl_thumbprint(&s, &out) == KB_E_PANIC && untouched(&out)) \
    X(kb_certificate_thumbprint, kb_certificate_thumbprint(der.ptr, der.len, form, &out) == KB_E_PANIC && untouched(&out)) \
    X(kb_jwk_thumbprint, kb_jwk_thumbprint(token, token_len, &out) == KB_E_PANIC && untouched(&out)) \
    X(kb_confirmation_match, \
      kb_confirmation_match(NULL, 0, der.ptr, der.len, form, &reason) == KB_E_PANIC && untouched(&reason)) \
    X(kb_verifier_new, \
      kb_verifier_new(config, config_len, &new_verifier, out, sizeof(out), &message_len) == KB_E_PANIC \
      && new_verifier == NULL && untouched(&out) && untouched(&message_len)) \
    X(kb_verifier_verify, \
      kb_verifier_verify(verifier, token, token_len, der.ptr, der.len, form, NOW, &reason, &new_claims) == KB_E_PANIC \
      && untouched(&reason) && new_claims == NULL) \
    X(kb_claims_json, kb_claims_json(claims, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_claims_free, RETURNS(kb_claims_free(claims))) \
    X(kb_verifier_free, RETURNS(kb_verifier_free(verifier))) \
    X(kb_engine_new, \
      kb_engine_new(config, config_len, &new_engine, out, sizeof(out), &message_len) == KB_E_PANIC \
      && new_engine == NULL && untouched(&out) && untouched(&message_len)) \
    X(kb_engine_new_with, \
      kb_engine_new_with(config, config_len, NULL, 0, &new_engine, out, sizeof(out), &message_len) == KB_E_PANIC \
      && new_engine == NULL && untouched(&out) && untouched(&message_len)) \
    X(kb_engine_warning, kb_engine_warning(engine, 0, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_engine_tls, kb_engine_tls(discovering, 0, &tls) == KB_E_PANIC && untouched(&tls)) \
    X(kb_engine_needs, kb_engine_needs(discovering) == 0) \
    X(kb_engine_shares, kb_engine_shares(discovering) == 0) \
    X(kb_engine_report_only, kb_engine_report_only(reporting) == 0) \
    X(kb_engine_counter, kb_engine_counter(engine, 0, &counter) == KB_E_PANIC && untouched(&counter)) \
    X(kb_engine_counters, kb_engine_counters(engine, values, 4096, &n) == KB_E_PANIC && untouched(&values) && untouched(&n)) \
    X(kb_engine_counters_name, kb_engine_counters_name(engine, &name) == KB_E_PANIC && untouched(&name)) \
    X(kb_engine_publish, kb_engine_publish(engine, values, counters_n) == KB_E_PANIC && untouched(&values)) \
    X(kb_page_new, kb_page_new(&new_page) == KB_E_PANIC && new_page == NULL) \
    X(kb_page_add, kb_page_add(page, engine, values, counters_n) == KB_E_PANIC) \
    X(kb_page_text, kb_page_text(page, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_page_free, RETURNS(kb_page_free(page))) \
    X(kb_engine_response, kb_engine_response(engine, KB_REASON_CERTIFICATE_REFUSED, &response) == KB_E_PANIC) \
    X(kb_engine_upstream_header, kb_engine_upstream_header(engine, 0, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_engine_decide, decide_panics()) \
    X(kb_engine_free, RETURNS(kb_engine_free(engine))) \
    X(kb_check_step, kb_check_step(check) == KB_STEP_INVALID) \
    X(kb_check_reason, kb_check_reason(check) == 0) \
    X(kb_check_response, kb_check_response(check, &response) == KB_E_PANIC && untouched(&response)) \
    X(kb_check_detail, kb_check_detail(check, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_check_spent, kb_check_spent(check, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_check_claims, kb_check_claims(check, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_check_claim, kb_check_claim(check, (const uint8_t *) "sub", 3, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_check_header, kb_check_header(check, 0, &s, &t) == KB_E_PANIC && untouched(&s) && untouched(&t)) \
    X(kb_check_response_header, \
      kb_check_response_header(check, 0, &s, &t) == KB_E_PANIC && untouched(&s) && untouched(&t)) \
    X(kb_check_fetch, kb_check_fetch(waiting, &fetch) == KB_E_PANIC && untouched(&fetch)) \
    X(kb_check_fetch_header, kb_check_fetch_header(waiting, 0, &s, &t) == KB_E_PANIC && untouched(&s) && untouched(&t)) \
    X(kb_check_fetched, kb_check_fetched(waiting, NOW, &failed) == KB_E_PANIC) \
    X(kb_exchange_new, kb_exchange_new(waiting, &new_exchange) == KB_E_PANIC && untouched(&new_exchange)) \
    X(kb_exchange_target, kb_exchange_target(exchange, &s, &number) == KB_E_PANIC && untouched(&s) && untouched(&number)) \
    X(kb_exchange_request, kb_exchange_request(exchange, &s) == KB_E_PANIC && untouched(&s)) \
    X(kb_exchange_received, \
      kb_exchange_received(exchange, config, 1, &number) == KB_E_PANIC && untouched(&number)) \
    X(kb_exchange_closed, kb_exchange_closed(exchange, &number) == KB_E_PANIC && untouched(&number)) \
    X(kb_exchange_answer, kb_exchange_answer(exchange, &answer) == KB_E_PANIC && untouched(&answer)) \
    X(kb_exchange_reusable, kb_exchange_reusable(exchange) == 0) \
    X(kb_exchange_free, RETURNS(kb_exchange_free(exchange))) \
    X(kb_check_store, kb_check_store(check, &store) == KB_E_PANIC && untouched(&store)) \
    X(kb_check_stored, kb_check_stored(check, NOW, KB_STORED, der) == KB_E_PANIC) \
    X(kb_check_free, RETURNS(kb_check_free(check))) \
    X(kb_trust_new, \
      kb_trust_new(config, config_len, &new_trust, out, sizeof(out), &message_len) == KB_E_PANIC \
      && new_trust == NULL && untouched(&out) && untouched(&message_len)) \
    X(kb_trust_free, RETURNS(kb_trust_free(new_trust))) \
    X(kb_tls_verify, \
      kb_tls_verify(new_trust, &s, token, token_len, out, sizeof(out), &message_len) == KB_E_PANIC \
      && untouched(&out) && untouched(&message_len)) \
    X(kb_tls_pair, kb_tls_pair(&s, &t) == KB_E_PANIC)


#define NAME(name, holds)  #name,
#define TRY(name, holds) \
    static void try_##name(void) { CHECK(holds); }
#define RUN(name, holds)   run_test("a panic in " #name, try_##name);


static const char *const  names[] = { EXPORTS(NAME) NULL };

EXPORTS(TRY)


/* After all of them, the library works as before. */

static void
test_afterwards(void)
{
    kb_engine  *made;

    CHECK_EQ(kb_abi_version(), KB_ABI_VERSION);
    CHECK_EQ(kb_engine_new(config, config_len, &made, NULL, 0, NULL), KB_OK);
    CHECK_EQ(kb_engine_decide(made, &facts, &decision), KB_OK);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    kb_check_free(decision.check);
    kb_engine_free(made);

    /* What a panic kept from the page is not there. */

    CHECK_EQ(kb_page_text(page, &s), KB_OK);
    CHECK(str_is(s, "# EOF\n"));
    kb_page_free(page);

    /* A check that a panic kept from an answer lets nothing through. */

    CHECK(kb_check_step(waiting) != KB_STEP_ALLOW && kb_check_step(waiting) != KB_STEP_INVALID);
}


/* A check that waits for metadata, and the exchange of that request. */

static int
make_waiting(void)
{
    kb_decision  begun;

    memset(&begun, 0, sizeof(begun));
    begun.struct_size = sizeof(begun);

    memset(&failed, 0, sizeof(failed));
    failed.struct_size = sizeof(failed);
    failed.outcome = KB_FETCH_CONNECT;

    if (kb_engine_new((const uint8_t *) DISCOVER, sizeof(DISCOVER) - 1, &discovering, NULL, 0, NULL) != KB_OK
        || kb_engine_decide(discovering, &facts, &begun) != KB_OK
        || begun.step != KB_STEP_FETCH
        || kb_exchange_new(begun.check, &exchange) != KB_OK)
    {
        return -1;
    }

    waiting = begun.check;

    return 0;
}


static int
load(const char *directory)
{
    char  path[4096];

    memset(&facts, 0, sizeof(facts));
    facts.struct_size = sizeof(facts);
    facts.now_s = NOW;
    facts.authorization.ptr = header;
    facts.authorization_n = 1;

    snprintf(path, sizeof(path), "%s/config.json", directory);
    if (read_file(path, config, sizeof(config), &config_len) != 0) {
        return -1;
    }

    snprintf(path, sizeof(path), "%s/allow.token", directory);
    if (read_line(path, token, sizeof(token), &token_len) != 0) {
        return -1;
    }

    snprintf(path, sizeof(path), "%s/allow.header", directory);
    if (read_line(path, header, sizeof(header), &facts.authorization.len) != 0) {
        return -1;
    }

    snprintf(path, sizeof(path), "%s/client.der", directory);
    if (read_cert(path, cert, sizeof(cert), &der, &form) != 0) {
        return -1;
    }

    facts.client_cert = der;
    facts.client_cert_form = form;

    return 0;
}


int
main(int argc, char **argv)
{
    int  i;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (i = 0; names[i] != NULL; i++) {
            puts(names[i]);
        }

        return 0;
    }

    unsetenv("KEYBOUND_PANIC");
    decision.struct_size = sizeof(decision);

    if (argc != 2
        || check_abi() != 0
        || load(argv[1]) != 0
        || kb_engine_new(config, config_len, &engine, NULL, 0, NULL) != KB_OK
        || kb_verifier_new(config, config_len, &verifier, NULL, 0, NULL) != KB_OK
        || kb_verifier_verify(verifier, token, token_len, der.ptr, der.len, form, NOW, &reason, &claims) != KB_OK
        || reason != KB_REASON_ALLOWED
        || kb_engine_decide(engine, &facts, &decision) != KB_OK
        || decision.step != KB_STEP_ALLOW || decision.check == NULL
        || kb_engine_new((const uint8_t *) REPORT, sizeof(REPORT) - 1, &reporting, NULL, 0, NULL) != KB_OK
        || kb_engine_report_only(reporting) != 1
        || kb_page_new(&page) != KB_OK
        || kb_engine_counters(engine, values, 4096, &counters_n) != KB_OK
        || make_waiting() != 0)
    {
        return 3;
    }

    check = decision.check;
    fill(&out);
    fill(&reason);
    fill(&message_len);
    fill(&s);
    fill(&t);
    fill(&n);
    fill(&name);
    fill(&tls);
    fill(&fetch);
    fill(&store);
    fill(&number);
    fill(&values);
    fill(&answer);
    fill(&counter);
    fill(&response);
    fill(&new_exchange);

    setenv("KEYBOUND_PANIC", "1", 1);
    EXPORTS(RUN)

    unsetenv("KEYBOUND_PANIC");
    run_test("after the panics", test_afterwards);

    return tests_failed ? 1 : 0;
}
