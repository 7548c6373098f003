/*
 * A gateway with a network: what the library asks of authorization servers is done with libcurl.
 *
 *     introspect CONFIG.json TOKEN_FILE [CERT.pem|CERT.der]
 *
 * Without a certificate the client's connection has none. Prints the requests that were made, the decision with its reason, and
 * the claims of an allowed token. Exit status: 0 allow, 1 deny, 2 error.
 */

#include <curl/curl.h>

#include "input.h"


#define SCHEME    "Bearer "
#define TLS_SIZE  64


/* One connection for each way to connect: a request with another certificate must not go over it. */

typedef struct {
    kb_tls   tls;
    CURL    *curl;
} peer_t;


/* An answer's body as far as it came. */

typedef struct {
    uint8_t  *bytes;
    size_t    len, limit;
    int       too_large;
} body_t;


typedef struct {
    kb_engine  *engine;
    size_t      peers_n;
    peer_t      peers[TLS_SIZE];
} gateway_t;


/* libcurl copies what it is given, but wants a NUL behind it. */

static int
set_text(CURL *curl, CURLoption option, kb_str s)
{
    int    ok;
    char  *text;

    text = (char *) malloc(s.len + 1);
    if (text == NULL) {
        return 0;
    }

    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    ok = curl_easy_setopt(curl, option, text) == CURLE_OK;
    free(text);

    return ok;
}


static int
is_pem(kb_str s)
{
    return s.len >= 10 && memcmp(s.ptr, "-----BEGIN", 10) == 0;
}


/* A certificate or key: the path of a file, or the PEM text itself. */

static int
set_pem(CURL *curl, CURLoption path, CURLoption text, kb_str s)
{
    struct curl_blob  blob;

    if (s.ptr == NULL) {
        return 1;
    }

    if (!is_pem(s)) {
        return set_text(curl, path, s);
    }

    blob.data = (void *) s.ptr;
    blob.len = s.len;
    blob.flags = CURL_BLOB_COPY;

    return curl_easy_setopt(curl, text, &blob) == CURLE_OK;
}


/* Where the operator names CAs, they alone count: libcurl would take those of the system's directory besides. */

static int
set_tls(CURL *curl, const kb_tls *tls)
{
    return curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, tls->verify ? 1L : 0L) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, tls->verify ? 2L : 0L) == CURLE_OK
           && (tls->trusted.ptr == NULL || curl_easy_setopt(curl, CURLOPT_CAPATH, (char *) NULL) == CURLE_OK)
           && set_pem(curl, CURLOPT_CAINFO, CURLOPT_CAINFO_BLOB, tls->trusted)
           && set_pem(curl, CURLOPT_SSLCERT, CURLOPT_SSLCERT_BLOB, tls->certificate)
           && set_pem(curl, CURLOPT_SSLKEY, CURLOPT_SSLKEY_BLOB, tls->private_key);
}


static size_t
take_body(char *bytes, size_t size, size_t n, void *data)
{
    body_t   *body;
    uint8_t  *longer;

    (void) size;    /* always 1 */
    body = (body_t *) data;

    if (n > body->limit - body->len) {
        body->too_large = 1;
        return 0;
    }

    longer = (uint8_t *) realloc(body->bytes, body->len + n + 1);
    if (longer == NULL) {
        return 0;
    }

    memcpy(longer + body->len, bytes, n);
    body->bytes = longer;
    body->len += n;

    return n;
}


/*
 * Nothing but https, and no proxy that the environment happens to name. No redirect is followed and nothing decompressed: that is
 * what libcurl does unless told otherwise. It counts the TCP connection and the TLS handshake together, and has no deadlines in
 * milliseconds between reads and writes: the one for the whole exchange bounds them.
 */

static int
set_request(CURL *curl, const kb_fetch *fetch, body_t *body)
{
    return set_text(curl, CURLOPT_URL, fetch->url)
           && (fetch->body.ptr == NULL
               || (curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) fetch->body.len) == CURLE_OK
                   && curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *) fetch->body.ptr) == CURLE_OK))
           && set_text(curl, CURLOPT_CUSTOMREQUEST, fetch->method)
           && curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, 2L * (long) fetch->connect_timeout_ms) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long) fetch->timeout_ms) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_WRITEDATA, body) == CURLE_OK;
}


/* Sets the headers; the list is to be freed, whatever came of it. */

static int
set_headers(CURL *curl, const kb_check *check, struct curl_slist **list)
{
    char               *line;
    size_t              i;
    kb_str              name, value;
    int32_t             status;
    struct curl_slist  *longer;

    for (i = 0; (status = kb_check_fetch_header(check, i, &name, &value)) == KB_OK; i++) {
        line = (char *) malloc(name.len + value.len + 3);
        if (line == NULL) {
            return 0;
        }

        memcpy(line, name.ptr, name.len);
        memcpy(line + name.len, ": ", 2);
        memcpy(line + name.len + 2, value.ptr, value.len);
        line[name.len + 2 + value.len] = '\0';
        longer = curl_slist_append(*list, line);
        free(line);

        if (longer == NULL) {
            return 0;
        }

        *list = longer;
    }

    return status == KB_E_RANGE && curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *list) == CURLE_OK;
}


static uint32_t
outcome_of(CURLcode rc, const body_t *body)
{
    switch (rc) {
    case CURLE_OK:
        return KB_FETCH_ANSWERED;
    case CURLE_COULDNT_RESOLVE_HOST:
        return KB_FETCH_RESOLVE;
    case CURLE_COULDNT_CONNECT:
        return KB_FETCH_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return KB_FETCH_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PEER_FAILED_VERIFICATION:
        return KB_FETCH_TLS;
    default:
        return body->too_large ? KB_FETCH_TOO_LARGE : KB_FETCH_MALFORMED;
    }
}


/* A header of the answer; valid as long as the handle is not used again. */

static kb_str
answer_header(CURL *curl, const char *name)
{
    kb_str               s;
    struct curl_header  *header;

    s.ptr = NULL;
    s.len = 0;

    if (curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK) {
        s.ptr = (const uint8_t *) header->value;
        s.len = strlen(header->value);
    }

    return s;
}


static kb_answer
answer_of(CURL *curl, CURLcode rc, const body_t *body)
{
    long        status;
    kb_answer   answer;
    curl_off_t  elapsed_us;

    memset(&answer, 0, sizeof(kb_answer));
    answer.struct_size = sizeof(kb_answer);
    answer.outcome = outcome_of(rc, body);

    if (curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME_T, &elapsed_us) == CURLE_OK) {
        answer.elapsed_us = (uint32_t) elapsed_us;
    }

    if (answer.outcome == KB_FETCH_ANSWERED) {
        status = 0;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        answer.status = (uint32_t) status;
        answer.content_type = answer_header(curl, "Content-Type");
        answer.retry_after = answer_header(curl, "Retry-After");
        answer.body.ptr = body->bytes;
        answer.body.len = body->len;
    }

    return answer;
}


static int32_t
take_fetch(gateway_t *gateway, kb_check *check)
{
    CURL               *curl;
    body_t              body;
    int32_t             status;
    CURLcode            rc;
    kb_fetch            fetch;
    kb_answer           answer;
    struct curl_slist  *headers;

    memset(&fetch, 0, sizeof(kb_fetch));
    fetch.struct_size = sizeof(kb_fetch);

    status = kb_check_fetch(check, &fetch);
    if (status != KB_OK) {
        return status;
    }

    if (fetch.tls >= gateway->peers_n) {
        return KB_E_RANGE;
    }

    print_str("fetch: ", fetch.endpoint, " ");
    print_str("", fetch.url, "\n");

    memset(&body, 0, sizeof(body_t));
    body.limit = fetch.max_body;
    curl = gateway->peers[fetch.tls].curl;

    /* What the last request set is forgotten; its connection stays. */

    curl_easy_reset(curl);
    headers = NULL;
    rc = CURLE_FAILED_INIT;

    if (set_tls(curl, &gateway->peers[fetch.tls].tls)
        && set_request(curl, &fetch, &body)
        && set_headers(curl, check, &headers))
    {
        rc = curl_easy_perform(curl);
    }

    if (rc != CURLE_OK) {
        printf("failed: %s\n", curl_easy_strerror(rc));
    }

    answer = answer_of(curl, rc, &body);
    status = kb_check_fetched(check, (int64_t) time(NULL), &answer);

    curl_slist_free_all(headers);
    free(body.bytes);

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


/* A file that is not there is an error of now, not of the first request. */

static int
check_readable(kb_str pem)
{
    char   path[4096];
    FILE  *file;

    if (pem.ptr == NULL || is_pem(pem)) {
        return 0;
    }

    snprintf(path, sizeof(path), "%.*s", (int) pem.len, (const char *) pem.ptr);

    file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }

    fclose(file);

    return 0;
}


static int
make_peers(gateway_t *gateway)
{
    size_t   i;
    kb_tls  *tls;

    for (i = 0; i < TLS_SIZE; i++) {
        tls = &gateway->peers[i].tls;
        tls->struct_size = sizeof(kb_tls);

        if (kb_engine_tls(gateway->engine, i, tls) != KB_OK) {
            return 0;
        }

        if (check_readable(tls->certificate) != 0
            || check_readable(tls->private_key) != 0
            || check_readable(tls->trusted) != 0)
        {
            return -1;
        }

        gateway->peers[i].curl = curl_easy_init();
        if (gateway->peers[i].curl == NULL) {
            return -1;
        }

        gateway->peers_n = i + 1;
    }

    fprintf(stderr, "too many ways to connect\n");

    return -1;
}


int
main(int argc, char **argv)
{
    int               rc;
    size_t            i, config_len, message_len;
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

    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        rc = make_peers(&gateway) == 0 ? decide(&gateway, &facts) : FAILED;

        for (i = 0; i < gateway.peers_n; i++) {
            curl_easy_cleanup(gateway.peers[i].curl);
        }

        curl_global_cleanup();
    }

    kb_engine_free(gateway.engine);

    return rc;
}
