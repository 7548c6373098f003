/*
 * What an HTTP gateway does with each request, with the facts from files:
 *
 *     decide CONFIG.json AUTHORIZATION_FILE CERT.pem|CERT.der|- [UNIX_TIME]
 *
 * AUTHORIZATION_FILE holds the whole value of the Authorization header; "-": the connection has no certificate.
 * Exit status: 0 allow, 1 deny, 2 error. A gateway answers 500 to an error, and never lets the request through.
 */

#include "input.h"


/*
 * Does what the step asks for, once. There is no network here, so the answer is that it failed. That is always safe: what
 * could not be learned is never taken for good, and the last step is a refusal. A gateway performs the request of
 * kb_check_fetch() or the operation of kb_check_store(), then gives the time at which the answer came: see introspect.c.
 */

static int32_t
answer(kb_check *check, uint32_t step, int64_t now_s)
{
    kb_str     absent;
    int32_t    status;
    kb_fetch   fetch;
    kb_answer  failed;

    if (step == KB_STEP_STORE) {
        absent.ptr = NULL;
        absent.len = 0;
        return kb_check_stored(check, now_s, KB_STORE_FAILED, absent);
    }

    memset(&fetch, 0, sizeof(kb_fetch));
    fetch.struct_size = sizeof(kb_fetch);

    status = kb_check_fetch(check, &fetch);
    if (status != KB_OK) {
        return status;
    }

    print_str("not fetched: ", fetch.url, "\n");

    memset(&failed, 0, sizeof(kb_answer));
    failed.struct_size = sizeof(kb_answer);
    failed.outcome = KB_FETCH_CONNECT;

    return kb_check_fetched(check, now_s, &failed);
}


static int32_t
print_granted(const kb_check *check)
{
    kb_str   json, name, value;
    size_t   i;
    int32_t  status;

    status = kb_check_claims(check, &json);
    if (status != KB_OK) {
        return status;
    }

    print_str("", json, "\n");

    for (i = 0; (status = kb_check_header(check, i, &name, &value)) == KB_OK; i++) {
        print_str("", name, value.ptr != NULL ? ": " : " is not sent");
        print_str("", value, "\n");
    }

    if (status != KB_E_RANGE) {
        return status;
    }

    for (i = 0; (status = kb_check_response_header(check, i, &name, &value)) == KB_OK; i++) {
        print_str("to the client: ", name, ": ");
        print_str("", value, "\n");
    }

    return status == KB_E_RANGE ? KB_OK : status;
}


static void
print_response(const kb_response *response)
{
    printf("HTTP %u\n", (unsigned) response->status);

    if (response->www_authenticate.ptr != NULL) {
        print_str("WWW-Authenticate: ", response->www_authenticate, "\n");
    }

    if (response->retry_after_s > 0) {
        printf("Retry-After: %u\n", (unsigned) response->retry_after_s);
    }

    print_str("Content-Type: ", response->content_type, "\n\n");
    print_str("", response->body, "\n");
}


static int
handle_request(const kb_engine *engine, const kb_facts *facts)
{
    int          rc;
    int32_t      status;
    uint32_t     step, reason;
    kb_decision  decision;
    kb_response  response;

    memset(&decision, 0, sizeof(kb_decision));
    decision.struct_size = sizeof(kb_decision);

    status = kb_engine_decide(engine, facts, &decision);
    if (status != KB_OK) {
        print_error("kb_engine_decide()", status, NULL, 0, 0);
        return FAILED;
    }

    step = decision.step;
    reason = decision.reason;
    response = decision.response;

    /* Nearly every request is decided by now. One that is not has a check, with steps to take in turn. */

    while (step == KB_STEP_FETCH || step == KB_STEP_STORE) {
        status = answer(decision.check, step, facts->now_s);
        if (status != KB_OK) {
            break;
        }

        step = kb_check_step(decision.check);
        reason = kb_check_reason(decision.check);

        if (step == KB_STEP_RESPOND) {
            status = kb_check_response(decision.check, &response);
        }
    }

    rc = FAILED;

    if (status == KB_OK && step == KB_STEP_ALLOW) {
        print_reason(reason);
        rc = ALLOWED;

        /* With report_only a request passes that would be refused: it has no claims and no headers, and its reason is for the log. */

        if (reason == KB_REASON_ALLOWED) {
            status = print_granted(decision.check);
        }

    } else if (status == KB_OK && step == KB_STEP_RESPOND) {
        print_reason(reason);
        print_response(&response);
        rc = DENIED;
    }

    if (status != KB_OK) {
        print_error("check", status, NULL, 0, 0);
        rc = FAILED;
    }

    kb_check_free(decision.check);

    return rc;
}


int
main(int argc, char **argv)
{
    int              rc;
    kb_str           text;
    size_t           i, config_len, message_len;
    int32_t          status;
    kb_facts         facts;
    kb_engine       *engine;
    static uint8_t   config[CONFIG_SIZE], authorization[TOKEN_SIZE], der_or_pem[CERT_SIZE], message[1024];

    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: decide CONFIG.json AUTHORIZATION_FILE CERT.pem|CERT.der|- [UNIX_TIME]\n");
        return FAILED;
    }

    /* The facts of the request. Set to 0 first: a field that this program does not know of then says nothing. */

    memset(&facts, 0, sizeof(kb_facts));

    facts.struct_size = sizeof(kb_facts);
    facts.authorization.ptr = authorization;
    facts.authorization_n = 1;
    facts.flags = KB_WANT_CLAIMS;

    if (check_abi() != 0
        || read_file(argv[1], config, sizeof(config), &config_len) != 0
        || read_line(argv[2], authorization, sizeof(authorization), &facts.authorization.len) != 0
        || read_cert(argv[3], der_or_pem, sizeof(der_or_pem), &facts.client_cert, &facts.client_cert_form) != 0
        || read_time(argc == 5 ? argv[4] : NULL, &facts.now_s) != 0)
    {
        return FAILED;
    }

    /* At start: one engine for each worker. */

    message_len = 0;

    status = kb_engine_new(config, config_len, &engine, message, sizeof(message), &message_len);
    if (status != KB_OK) {
        print_error(argv[1], status, message, message_len, sizeof(message));
        return FAILED;
    }

    if (check_needs(engine) != 0) {
        kb_engine_free(engine);
        return FAILED;
    }

    for (i = 0; kb_engine_warning(engine, i, &text) == KB_OK; i++) {
        print_str("warning: ", text, "\n");
    }

    /* Before anything else, on every path: what the client sent under these names must never reach the upstream. */

    for (i = 0; (status = kb_engine_upstream_header(engine, i, &text)) == KB_OK; i++) {
        print_str("removed from the request: ", text, "\n");
    }

    if (status == KB_E_RANGE) {
        rc = handle_request(engine, &facts);

    } else {
        print_error("kb_engine_upstream_header()", status, NULL, 0, 0);
        rc = FAILED;
    }

    kb_engine_free(engine);

    return rc;
}
