/*
 * What the library asks of authorization servers, done with libcurl.
 */

#ifndef FETCH_H
#define FETCH_H

#include <curl/curl.h>

#include "input.h"


#define TLS_SIZE  64


/* One connection for each way to connect: a request with another certificate must not go over it. */

typedef struct {
    kb_tls   tls;
    CURL    *curl;
} peer_t;


typedef struct {
    size_t  n;
    peer_t  peers[TLS_SIZE];
} peers_t;


/* An answer's body as far as it came. */

typedef struct {
    uint8_t  *bytes;
    size_t    len, limit;
    int       too_large;
} body_t;


/* The answer's pointers are valid until the next request to the same peer. */

typedef struct {
    CURLcode   rc;
    kb_answer  answer;
    body_t     body;
} fetched_t;


/* libcurl copies what it is given, but wants a NUL behind it. */

static inline int
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


static inline int
is_pem(kb_str s)
{
    return s.len >= 10 && memcmp(s.ptr, "-----BEGIN", 10) == 0;
}


/* A certificate or key: the path of a file, or the PEM text itself. */

static inline int
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

static inline int
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


static inline size_t
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
 * milliseconds between reads and writes: the one for the whole exchange bounds them. What is good once goes over a new connection:
 * over one that was kept, libcurl sends it again if that ends before an answer.
 */

static inline int
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
           && curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, fetch->once ? 1L : 0L) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK
           && curl_easy_setopt(curl, CURLOPT_WRITEDATA, body) == CURLE_OK;
}


/* Sets the headers; the list is to be freed, whatever came of it. */

static inline int
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


static inline uint32_t
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

static inline kb_str
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


static inline kb_answer
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


/* Performs the request of a check; what came of it is to be freed with free_fetched(). */

static inline int32_t
perform(peers_t *peers, const kb_check *check, const kb_fetch *fetch, fetched_t *fetched)
{
    CURL               *curl;
    struct curl_slist  *headers;

    if (fetch->tls >= peers->n) {
        return KB_E_RANGE;
    }

    memset(fetched, 0, sizeof(fetched_t));
    fetched->body.limit = fetch->max_body;
    fetched->rc = CURLE_FAILED_INIT;
    curl = peers->peers[fetch->tls].curl;
    headers = NULL;

    /* What the last request set is forgotten; its connection stays. */

    curl_easy_reset(curl);

    if (set_tls(curl, &peers->peers[fetch->tls].tls)
        && set_request(curl, fetch, &fetched->body)
        && set_headers(curl, check, &headers))
    {
        fetched->rc = curl_easy_perform(curl);
    }

    fetched->answer = answer_of(curl, fetched->rc, &fetched->body);
    curl_slist_free_all(headers);

    return KB_OK;
}


static inline void
free_fetched(fetched_t *fetched)
{
    free(fetched->body.bytes);
}


/* A file that is not there is an error of now, not of the first request. */

static inline int
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


static inline int
make_peers(const kb_engine *engine, peers_t *peers)
{
    size_t   i;
    kb_tls  *tls;

    for (i = 0; i < TLS_SIZE; i++) {
        tls = &peers->peers[i].tls;
        tls->struct_size = sizeof(kb_tls);

        if (kb_engine_tls(engine, i, tls) != KB_OK) {
            return 0;
        }

        if (check_readable(tls->certificate) != 0
            || check_readable(tls->private_key) != 0
            || check_readable(tls->trusted) != 0)
        {
            return -1;
        }

        peers->peers[i].curl = curl_easy_init();
        if (peers->peers[i].curl == NULL) {
            return -1;
        }

        peers->n = i + 1;
    }

    fprintf(stderr, "too many ways to connect\n");

    return -1;
}


static inline void
free_peers(peers_t *peers)
{
    size_t  i;

    for (i = 0; i < peers->n; i++) {
        curl_easy_cleanup(peers->peers[i].curl);
    }
}


#endif /* FETCH_H */
