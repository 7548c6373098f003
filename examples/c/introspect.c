/*
 * A gateway with a network: what the library asks of authorization servers is done with libcurl.
 *
 *     introspect CONFIG.json TOKEN_FILE [CERT.pem|CERT.der]
 *
 * Without a certificate the client's connection has none. Prints the requests that were made, the decision with its reason, and
 * the claims of an allowed token. Exit status: 0 allow, 1 deny, 2 error.
 */

#include "fetch.h"


#define SCHEME  "Bearer "


typedef struct {
    kb_engine  *engine;
    peers_t     peers;
} gateway_t;


static int32_t
take_fetch(gateway_t *gateway, kb_check *check)
{
    int32_t    status;
    kb_fetch   fetch;
    fetched_t  fetched;

    memset(&fetch, 0, sizeof(kb_fetch));
    fetch.struct_size = sizeof(kb_fetch);

    status = kb_check_fetch(check, &fetch);
    if (status != KB_OK) {
        return status;
    }

    print_str("fetch: ", fetch.endpoint, " ");
    print_str("", fetch.url, "\n");

    status = perform(&gateway->peers, check, &fetch, &fetched);
    if (status != KB_OK) {
        return status;
    }

    if (fetched.rc != CURLE_OK) {
        printf("failed: %s\n", curl_easy_strerror(fetched.rc));
    }

    status = kb_check_fetched(check, (int64_t) time(NULL), &fetched.answer);
    free_fetched(&fetched);

    return status;
}


/* There is nobody here to share with. That costs requests, never a decision. */

static int32_t
take_store(kb_check *check)
{
    kb_str  absent;

    absent.ptr = NULL;
    absent.len = 0;

    return kb_check_stored(check, (int64_t) time(NULL), KB_STORE_FAILED, absent);
}


/* Takes the steps of a check, each once, until there is a decision. */

static int32_t
take_steps(gateway_t *gateway, kb_check *check)
{
    int32_t  status;

    for ( ;; ) {
        switch (kb_check_step(check)) {
        case KB_STEP_FETCH:
            status = take_fetch(gateway, check);
            break;
        case KB_STEP_STORE:
            status = take_store(check);
            break;
        default:
            return KB_OK;
        }

        if (status != KB_OK) {
            return status;
        }
    }
}


static int
decide(gateway_t *gateway, const kb_facts *facts)
{
    int          rc;
    kb_str       text;
    int32_t      status;
    uint32_t     step, reason;
    const char  *said;
    kb_decision  decision;

    memset(&decision, 0, sizeof(kb_decision));
    decision.struct_size = sizeof(kb_decision);

    status = kb_engine_decide(gateway->engine, facts, &decision);
    step = decision.step;
    reason = decision.reason;

    if (status == KB_OK && decision.check != NULL) {
        status = take_steps(gateway, decision.check);
        step = kb_check_step(decision.check);
        reason = kb_check_reason(decision.check);
    }

    rc = FAILED;
    said = "deny";
    text.ptr = NULL;

    if (status == KB_OK && step == KB_STEP_ALLOW && reason == KB_REASON_ALLOWED) {
        status = kb_check_claims(decision.check, &text);
        said = "allow";
        rc = ALLOWED;

    } else if (status == KB_OK && (step == KB_STEP_ALLOW || step == KB_STEP_RESPOND)) {
        status = decision.check != NULL ? kb_check_detail(decision.check, &text) : KB_OK;
        rc = DENIED;

        /* With report_only what would be refused passes, and is logged. */

        if (step == KB_STEP_ALLOW) {
            said = "report";
            rc = ALLOWED;
        }
    }

    if (status == KB_OK && rc != FAILED) {
        printf("%s: ", said);
        print_reason(reason);

        if (text.ptr != NULL) {
            print_str(reason == KB_REASON_ALLOWED ? "claims: " : "detail: ", text, "\n");
        }

    } else {
        print_error("decide", status, NULL, 0, 0);
        rc = FAILED;
    }

    kb_check_free(decision.check);

    return rc;
}


int
main(int argc, char **argv)
{
    int               rc;
    size_t            config_len, message_len;
    int32_t           status;
    kb_facts          facts;
    static uint8_t    config[CONFIG_SIZE], authorization[TOKEN_SIZE], der_or_pem[CERT_SIZE], message[1024];
    static gateway_t  gateway;

    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: introspect CONFIG.json TOKEN_FILE [CERT.pem|CERT.der]\n");
        return FAILED;
    }

    memset(&facts, 0, sizeof(kb_facts));

    facts.struct_size = sizeof(kb_facts);
    facts.authorization.ptr = authorization;
    facts.authorization_n = 1;
    facts.flags = KB_WANT_CLAIMS;
    memcpy(authorization, SCHEME, strlen(SCHEME));

    if (check_abi() != 0
        || read_file(argv[1], config, sizeof(config), &config_len) != 0
        || read_line(argv[2], authorization + strlen(SCHEME), sizeof(authorization) - strlen(SCHEME), &facts.authorization.len) != 0
        || read_cert(argc == 4 ? argv[3] : "-", der_or_pem, sizeof(der_or_pem), &facts.client_cert, &facts.client_cert_form) != 0
        || read_time(NULL, &facts.now_s) != 0)
    {
        return FAILED;
    }

    facts.authorization.len += strlen(SCHEME);
    message_len = 0;

    status = kb_engine_new(config, config_len, &gateway.engine, message, sizeof(message), &message_len);
    if (status != KB_OK) {
        print_error(argv[1], status, message, message_len, sizeof(message));
        return FAILED;
    }

    rc = FAILED;

    if (check_needs(gateway.engine) == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        rc = make_peers(gateway.engine, &gateway.peers) == 0 ? decide(&gateway, &facts) : FAILED;
        free_peers(&gateway.peers);
        curl_global_cleanup();
    }

    kb_engine_free(gateway.engine);

    return rc;
}
