/*
 * Logins, sessions and grants with nothing but the C ABI: a gateway and a browser in one, and a real authorization server.
 *
 *     login PKI ISSUER     PKI: the directory that nginx-test/pki.sh made
 */

#define _POSIX_C_SOURCE 200809L

#include "../../examples/c/fetch.h"
#include "test.h"


#define HOST        "api.test"
#define ORIGIN      "https://" HOST
#define SESSION     "__Host-session"
#define PATIENT     "\"timeout\":60000,\"connect_timeout\":30000"    /* under valgrind everything takes its time */

/* So long after the login that the access token, which lives 600 seconds, is to be refreshed, and still good. */
#define LATER       580
#define MINUTE      60

#define reason_is(seen, code)  (strcmp(kb_reason_code((seen)->reason), (code)) == 0)
#define begins(text, start)    (strncmp((text), (start), strlen(start)) == 0)
#define ends_login(...)        FROM_HERE(ends_login_(__VA_ARGS__))
#define check_allowed(...)     FROM_HERE(check_allowed_(__VA_ARGS__))
#define check_refused(...)     FROM_HERE(check_refused_(__VA_ARGS__))


/* The shared store: a table. */

typedef struct {
    uint8_t   key[32];
    uint8_t  *value;
    size_t    len;
    int64_t   end;
} entry_t;


typedef struct {
    int  metadata, jwks, token, introspection, revocation, other;
} fetches_t;


typedef struct {
    kb_engine  *engine;
    peers_t     peers;
    entry_t     entries[64];
    size_t      entries_n;
    int         store_fails;
    int64_t     ahead;      /* of the real time */
} gateway_t;


typedef struct {
    char  name[64], value[4200];
} cookie_t;


/* A browser with its client certificate, and its cookies for the gateway. */

typedef struct {
    const char  *cert;
    size_t       n;
    cookie_t     cookies[16];
} browser_t;


/* A request. What is NULL it does not have. */

typedef struct {
    const char  *method, *target, *authorization, *site, *form;
    int          is_program;
} request_t;


/* What came of a request. */

typedef struct {
    uint32_t   step, reason, status, retry_after_s;
    int        is_at_once, cookies_set, stores;
    fetches_t  fetches;

    /* Of the answer, of what goes to the upstream, and what the host gets; empty: there is none. */

    char       content_type[64], www_authenticate[256], location[8192], body[4096];
    char       authorization[8192], cookie[8192];
    char       claims[4096], detail[1024];
    int        is_cookie_removed;
} seen_t;


static char        pki[4096], issuer[256];
static browser_t   alice;
static gateway_t  *gateway;

/* Of the two ways to keep sessions; each with another kind of access token. */

static int  in_store, is_opaque;


static void
fail(const char *what)
{
    fprintf(stderr, "login: %s\n", what);
    exit(3);
}


static gateway_t *
new_gateway(const char *options)
{
    int               len;
    size_t            message_len;
    gateway_t        *made;
    static uint8_t    message[1024];
    static char       config[16384];
    static const char format[] =
        "{\"issuer\":\"%s\",\"audience_required\":[\"https://api.test\"],\"ssl_trusted_certificate\":\"%s/ca.crt\"," PATIENT ","
        "\"client_id\":\"web\",\"client_auth\":\"tls_client_auth\",\"tls_client_auth_cert_id\":\"own\","
        "\"client_certificates\":{\"own\":{\"certificate\":\"%s/web.crt\",\"private_key\":\"%s/web.key\"}},"
        "\"session_secret\":\"0123456789abcdef0123456789abcdef\",\"store_secret\":\"fedcba9876543210fedcba9876543210\",%s}";

    len = snprintf(config, sizeof(config), format, issuer, pki, pki, pki, options);
    made = (gateway_t *) calloc(1, sizeof(gateway_t));

    if (len < 0 || (size_t) len >= sizeof(config) || made == NULL) {
        fail("no room");
    }

    message_len = 0;

    if (kb_engine_new((const uint8_t *) config, (size_t) len, &made->engine, message, sizeof(message), &message_len) != KB_OK) {
        fprintf(stderr, "%.*s\n", (int) message_len, (const char *) message);
        fail("no engine");
    }

    if (make_peers(made->engine, &made->peers) != 0) {
        fail("the certificates cannot be read");
    }

    return made;
}


static void
remove_entry(gateway_t *g, size_t i)
{
    free(g->entries[i].value);
    g->entries[i] = g->entries[--g->entries_n];
}


static void
free_gateway(gateway_t *g)
{
    while (g->entries_n > 0) {
        remove_entry(g, 0);
    }

    free_peers(&g->peers);
    kb_engine_free(g->engine);
    free(g);
}


/* A copy in a block of its own: who reads it when it is freed, is seen by valgrind. */

static kb_str
lend(const char *text)
{
    kb_str  s;

    s = str_of(text);

    if (text != NULL) {
        s.ptr = (const uint8_t *) strdup(text);
        if (s.ptr == NULL) {
            fail("no memory");
        }
    }

    return s;
}


static void
take_back(kb_str s)
{
    free((void *) s.ptr);
}


static void
copy_(char *to, size_t size, kb_str s)
{
    CHECK(s.len < size);

    if (s.len >= size) {
        s.len = 0;
    }

    if (s.ptr != NULL) {
        memcpy(to, s.ptr, s.len);
    }

    to[s.ptr != NULL ? s.len : 0] = '\0';
}


#define copy(to, s)  copy_((to), sizeof(to), (s))


static int64_t
now_of(const gateway_t *g)
{
    return (int64_t) time(NULL) + g->ahead;
}


static int32_t
take_fetch(gateway_t *g, kb_check *check, seen_t *seen)
{
    int       *count;
    kb_str     name, value;
    int32_t    status;
    kb_fetch   fetch;
    fetched_t  fetched;

    memset(&fetch, 0, sizeof(fetch));
    fetch.struct_size = sizeof(fetch);

    status = kb_check_fetch(check, &fetch);
    if (status != KB_OK) {
        return status;
    }

    /* A code, a refresh token and a password go to the token endpoint, and nothing else is good once. */

    CHECK_EQ(fetch.once, str_is(fetch.endpoint, "token"));
    CHECK_EQ(kb_check_response_header(check, 0, &name, &value), KB_E_STATE);

    count = str_is(fetch.endpoint, "metadata") ? &seen->fetches.metadata
            : str_is(fetch.endpoint, "jwks") ? &seen->fetches.jwks
            : str_is(fetch.endpoint, "token") ? &seen->fetches.token
            : str_is(fetch.endpoint, "introspection") ? &seen->fetches.introspection
            : str_is(fetch.endpoint, "revocation") ? &seen->fetches.revocation : &seen->fetches.other;
    (*count)++;

    status = perform(&g->peers, check, &fetch, &fetched);
    if (status == KB_OK) {
        status = kb_check_fetched(check, now_of(g), &fetched.answer);
        free_fetched(&fetched);
    }

    return status;
}


static int32_t
take_store(gateway_t *g, kb_check *check, seen_t *seen)
{
    size_t    i;
    kb_str    value;
    entry_t  *entry;
    int32_t   status;
    uint32_t  answer;
    kb_store  store;

    memset(&store, 0, sizeof(store));
    store.struct_size = sizeof(store);

    status = kb_check_store(check, &store);
    if (status != KB_OK) {
        return status;
    }

    seen->stores++;
    CHECK_EQ(store.key.len, 32);
    CHECK(store.ttl_s >= 1);
    CHECK_EQ(store.delay_ms, 0);    /* there is no other worker */
    CHECK((store.value.ptr != NULL) == (store.operation == KB_STORE_ADD || store.operation == KB_STORE_PUT));
    value = str_of(NULL);

    if (g->store_fails) {
        return kb_check_stored(check, now_of(g), KB_STORE_FAILED, value);
    }

    for (i = 0; i < g->entries_n && memcmp(g->entries[i].key, store.key.ptr, 32) != 0; i++) { /* void */ }

    if (i < g->entries_n && g->entries[i].end <= now_of(g)) {
        remove_entry(g, i);
        i = g->entries_n;
    }

    entry = &g->entries[i];
    answer = KB_STORED;

    switch (store.operation) {
    case KB_STORE_GET:
        answer = KB_STORE_ABSENT;

        if (i < g->entries_n) {
            answer = KB_STORE_FOUND;
            value.ptr = entry->value;
            value.len = entry->len;
        }

        break;

    case KB_STORE_DELETE:
        if (i < g->entries_n) {
            remove_entry(g, i);
        }

        break;

    default:
        if (i < g->entries_n && store.operation == KB_STORE_ADD) {
            answer = KB_STORE_EXISTS;
            break;
        }

        if (i < g->entries_n) {
            remove_entry(g, i);
        }

        if (g->entries_n == sizeof(g->entries) / sizeof(g->entries[0])) {
            answer = KB_STORE_FAILED;
            break;
        }

        entry = &g->entries[g->entries_n++];
        entry->value = (uint8_t *) malloc(store.value.len + 1);
        if (entry->value == NULL) {
            fail("no memory");
        }

        memcpy(entry->key, store.key.ptr, 32);
        memcpy(entry->value, store.value.ptr, store.value.len);
        entry->len = store.value.len;
        entry->end = now_of(g) + store.ttl_s;
    }

    return kb_check_stored(check, now_of(g), answer, value);
}


static int
is_stored(const gateway_t *g, const char *text)
{
    size_t  i, j, len;

    len = strlen(text);

    for (i = 0; i < g->entries_n; i++) {
        for (j = 0; j + len <= g->entries[i].len; j++) {
            if (memcmp(g->entries[i].value + j, text, len) == 0) {
                return 1;
            }
        }
    }

    return 0;
}


static const char *
cookie_of(const browser_t *browser, const char *prefix)
{
    size_t  i;

    for (i = 0; i < browser->n; i++) {
        if (begins(browser->cookies[i].name, prefix)) {
            return browser->cookies[i].value;
        }
    }

    return NULL;
}


/* What a browser does with Set-Cookie. One without a value is to be forgotten. */

static void
take_cookie(browser_t *browser, const char *line)
{
    size_t       i, name_len, value_len;
    const char  *value, *attributes;

    value = strchr(line, '=');
    attributes = strchr(line, ';');
    CHECK(value != NULL && attributes != NULL && value < attributes);

    if (value == NULL || attributes == NULL || value > attributes) {
        return;
    }

    CHECK(begins(line, SESSION));
    CHECK(begins(attributes, "; Path=/; Secure; HttpOnly; SameSite=Lax"));
    CHECK(strstr(attributes, "Domain") == NULL);
    CHECK(strlen(line) <= 4096);

    name_len = (size_t) (value++ - line);
    value_len = (size_t) (attributes - value);

    for (i = 0; i < browser->n; i++) {
        if (strlen(browser->cookies[i].name) == name_len && memcmp(browser->cookies[i].name, line, name_len) == 0) {
            browser->cookies[i] = browser->cookies[--browser->n];
            break;
        }
    }

    if (value_len == 0) {
        CHECK(strstr(attributes, "Expires=Thu, 01 Jan 1970") != NULL);
        return;
    }

    if (browser->n == sizeof(browser->cookies) / sizeof(browser->cookies[0])) {
        fail("too many cookies");
    }

    snprintf(browser->cookies[browser->n].name, sizeof(browser->cookies[0].name), "%.*s", (int) name_len, line);
    snprintf(browser->cookies[browser->n].value, sizeof(browser->cookies[0].value), "%.*s", (int) value_len, value);
    browser->n++;
}


static kb_str
cookies_of(const browser_t *browser)
{
    size_t       i, len;
    static char  header[65536];

    if (browser->n == 0) {
        return str_of(NULL);
    }

    for (i = 0, len = 0; i < browser->n; i++) {
        len += (size_t) snprintf(header + len, sizeof(header) - len, "%s%s=%s", i > 0 ? "; " : "", browser->cookies[i].name,
                                 browser->cookies[i].value);
    }

    return lend(header);
}


static kb_str
cert_of(const browser_t *browser)
{
    char     path[5000];
    size_t   len;
    uint8_t  pem[CERT_SIZE];

    if (browser->cert == NULL) {
        return str_of(NULL);
    }

    snprintf(path, sizeof(path), "%s/%s.crt", pki, browser->cert);

    if (read_file(path, pem, sizeof(pem) - 1, &len) != 0) {
        fail("no certificate");
    }

    pem[len] = '\0';

    return lend((const char *) pem);
}


/* The facts of a request that is gone when the library has looked at it. */

static kb_decision
begin(const gateway_t *g, const browser_t *browser, const request_t *request)
{
    size_t        i;
    kb_http       http;
    kb_facts      facts;
    const char   *query;
    kb_decision   decision;
    kb_str       *lent[] = {
        &http.method, &http.host, &http.target, &http.cookie, &http.accept, &http.fetch_site, &http.fetch_mode,
        &http.fetch_dest, &http.form, &facts.authorization, &facts.query, &facts.client_cert
    };

    memset(&http, 0, sizeof(http));
    http.struct_size = sizeof(http);
    http.method = lend(request->method);
    http.host = lend(HOST);
    http.target = lend(request->target);
    http.cookie = cookies_of(browser);
    http.accept = lend(request->is_program ? "application/json" : "text/html");
    http.fetch_site = lend(request->site);
    http.fetch_mode = lend(request->is_program ? "cors" : "navigate");
    http.fetch_dest = lend(request->is_program ? "empty" : "document");
    http.form = lend(request->form);

    memset(&facts, 0, sizeof(facts));
    facts.struct_size = sizeof(facts);
    facts.now_s = now_of(g);
    facts.authorization = lend(request->authorization);
    facts.authorization_n = request->authorization != NULL;
    query = strchr(request->target, '?');
    facts.query = lend(query != NULL ? query + 1 : NULL);
    facts.client_cert = cert_of(browser);
    facts.client_cert_form = browser->cert != NULL ? KB_CERT_PEM : KB_CERT_NONE;
    facts.http = &http;

    fill(&decision);
    decision.struct_size = sizeof(decision);
    CHECK_EQ(kb_engine_decide(g->engine, &facts, &decision), KB_OK);

    for (i = 0; i < sizeof(lent) / sizeof(lent[0]); i++) {
        take_back(*lent[i]);
    }

    return decision;
}


/* The headers of an answer or of an allowed request: the browser takes its cookies. */

static void
take_response_headers(const kb_check *check, browser_t *browser, seen_t *seen)
{
    int      is_stored;
    char     line[8192];
    kb_str   name, value;
    size_t   i;
    int32_t  status;

    is_stored = 1;

    for (i = 0; (status = kb_check_response_header(check, i, &name, &value)) == KB_OK; i++) {
        copy(line, value);

        if (str_is(name, "set-cookie")) {
            take_cookie(browser, line);
            seen->cookies_set++;

        } else if (str_is(name, "location")) {
            copy(seen->location, value);

        } else if (str_is(name, "cache-control")) {
            is_stored = strcmp(line, "no-store") != 0;
        }
    }

    CHECK_EQ(status, KB_E_RANGE);
    CHECK(!is_stored || seen->step == KB_STEP_ALLOW || i == 0);

    fill(&name);
    fill(&value);
    CHECK_EQ(kb_check_response_header(check, i, &name, &value), KB_E_RANGE);
    CHECK_EQ(kb_check_response_header(check, SIZE_MAX, &name, &value), KB_E_RANGE);
    CHECK(untouched(&name) && untouched(&value));
}


static void
take_allowed(const kb_check *check, seen_t *seen)
{
    kb_str       name, value;
    size_t       i;
    int32_t      status;
    kb_response  response;

    CHECK_EQ(seen->reason, KB_REASON_ALLOWED);
    CHECK_EQ(kb_check_response(check, &response), KB_E_STATE);
    CHECK_EQ(kb_check_claims(check, &value), KB_OK);
    copy(seen->claims, value);

    for (i = 0; (status = kb_check_header(check, i, &name, &value)) == KB_OK; i++) {
        if (str_is(name, "authorization")) {
            copy(seen->authorization, value);

        } else if (str_is(name, "cookie")) {
            copy(seen->cookie, value);
            seen->is_cookie_removed = value.ptr == NULL;
        }
    }

    CHECK_EQ(status, KB_E_RANGE);
}


static void
take_answer(const kb_response *response, seen_t *seen)
{
    seen->status = response->status;
    seen->retry_after_s = response->retry_after_s;
    copy(seen->content_type, response->content_type);
    copy(seen->www_authenticate, response->www_authenticate);
    copy(seen->body, response->body);
}


/* Sends a request to the gateway, which does what the steps say until there is a decision. */

static const seen_t *
ask(gateway_t *g, browser_t *browser, const request_t *request)
{
    kb_str          name, value;
    int32_t         status;
    kb_check       *check;
    kb_decision     decision;
    kb_response     response;
    static seen_t   seen;

    memset(&seen, 0, sizeof(seen));
    decision = begin(g, browser, request);
    check = decision.check;
    status = KB_OK;
    seen.step = decision.step;
    seen.reason = decision.reason;
    seen.is_at_once = seen.step == KB_STEP_ALLOW || seen.step == KB_STEP_RESPOND;
    response = decision.response;

    while (status == KB_OK && (seen.step == KB_STEP_FETCH || seen.step == KB_STEP_STORE)) {
        status = seen.step == KB_STEP_FETCH ? take_fetch(g, check, &seen) : take_store(g, check, &seen);
        seen.step = kb_check_step(check);
        seen.reason = kb_check_reason(check);
    }

    CHECK_EQ(status, KB_OK);
    CHECK(seen.step == KB_STEP_ALLOW || seen.step == KB_STEP_RESPOND);
    CHECK(kb_reason_code(seen.reason) != NULL);

    if (check != NULL) {
        take_response_headers(check, browser, &seen);
        CHECK_EQ(kb_check_detail(check, &value), KB_OK);
        copy(seen.detail, value);
    }

    if (seen.step == KB_STEP_ALLOW) {
        CHECK(check != NULL);
        take_allowed(check, &seen);

    } else {
        if (check != NULL) {
            CHECK_EQ(kb_check_response(check, &response), KB_OK);
            CHECK_EQ(kb_check_claims(check, &value), KB_E_STATE);
            CHECK_EQ(kb_check_header(check, 0, &name, &value), KB_E_STATE);
        }

        take_answer(&response, &seen);
    }

    kb_check_free(check);

    return &seen;
}


static const seen_t *
navigate(gateway_t *g, browser_t *browser, const char *method, const char *target, const char *site)
{
    request_t  request;

    memset(&request, 0, sizeof(request));
    request.method = method;
    request.target = target;
    request.site = site;

    return ask(g, browser, &request);
}


static const seen_t *
call(gateway_t *g, browser_t *browser, const char *target, const char *authorization)
{
    request_t  request;

    memset(&request, 0, sizeof(request));
    request.method = "GET";
    request.target = target;
    request.authorization = authorization;
    request.site = "same-origin";
    request.is_program = 1;

    return ask(g, browser, &request);
}


static void
check_allowed_(const seen_t *seen)
{
    CHECK_EQ(seen->step, KB_STEP_ALLOW);
    CHECK_EQ(seen->reason, KB_REASON_ALLOWED);
    CHECK_EQ(seen->status, 0);
    CHECK(strstr(seen->claims, "\"sub\":\"alice\"") != NULL);
}


static void
check_refused_(const seen_t *seen, const char *code, uint32_t status)
{
    CHECK_EQ(seen->step, KB_STEP_RESPOND);
    CHECK(reason_is(seen, code));
    CHECK_EQ(seen->status, status);
    CHECK(seen->claims[0] == '\0' && seen->authorization[0] == '\0');

    if (!reason_is(seen, code)) {
        printf("     it is %s: %s\n", kb_reason_code(seen->reason), seen->detail);
    }
}


/* What a browser does at the authorization server, until that sends it back: the URL for that. */

static size_t
no_body(char *bytes, size_t size, size_t n, void *data)
{
    (void) bytes;
    (void) data;

    return size * n;
}


static const char *
log_in_at_server(const char *location)
{
    int          hops, is_filled;
    char         ca[5000];
    long         status;
    CURL        *curl;
    char        *next;
    static char  url[8192];

    snprintf(ca, sizeof(ca), "%s/ca.crt", pki);
    snprintf(url, sizeof(url), "%s", location);
    is_filled = 0;
    curl = curl_easy_init();

    if (curl == NULL
        || curl_easy_setopt(curl, CURLOPT_COOKIEFILE, "") != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_CAINFO, ca) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_PROXY, "") != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, no_body) != CURLE_OK)
    {
        fail("no browser");
    }

    for (hops = 0; hops < 10 && !begins(url, ORIGIN "/"); hops++) {
        next = NULL;
        status = 0;

        if (curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK || curl_easy_perform(curl) != CURLE_OK) {
            break;
        }

        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &next);

        if (next != NULL) {
            snprintf(url, sizeof(url), "%s", next);
            curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);

        } else if (status == 200 && !is_filled) {

            /* The form goes where the page came from. */

            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "login=alice&password=alice-password&action=login");
            is_filled = 1;

        } else {
            break;
        }
    }

    curl_easy_cleanup(curl);
    CHECK(is_filled);
    CHECK(begins(url, ORIGIN "/"));

    return begins(url, ORIGIN) ? url + strlen(ORIGIN) : "/";
}


/* Sends a browser to log in, by way of the gateway: where it comes back to. */

static const char *
begins_login(gateway_t *g, browser_t *browser)
{
    const seen_t  *seen;
    static char    target[8192];

    seen = navigate(g, browser, "GET", "/hello?x=1", "none");
    check_refused_(seen, "login_started", 302);
    snprintf(target, sizeof(target), "%s", log_in_at_server(seen->location));

    return target;
}


static void
ends_login_(const seen_t *seen)
{
    check_refused_(seen, "login_completed", 302);
    CHECK(strcmp(seen->location, ORIGIN "/hello?x=1") == 0);
    CHECK(seen->cookies_set >= 2);
    CHECK_EQ(seen->fetches.token, 1);
}


static void
test_login(void)
{
    const char    *back;
    browser_t      nobody, before, other;
    const seen_t  *seen;

    memset(&nobody, 0, sizeof(nobody));
    memset(&alice, 0, sizeof(alice));
    alice.cert = nobody.cert = "client";

    /* A program is told, a person is sent. Nobody is sent who could not come in. */

    seen = call(gateway, &nobody, "/hello?x=1", NULL);
    check_refused(seen, "no_token", 401);
    CHECK(seen->is_at_once);
    CHECK(strcmp(seen->www_authenticate, "Bearer") == 0);
    CHECK(strcmp(seen->content_type, "application/json; charset=utf-8") == 0);

    nobody.cert = NULL;
    seen = navigate(gateway, &nobody, "GET", "/hello?x=1", "none");
    check_refused(seen, "session_certificate_missing", 401);
    CHECK(seen->is_at_once);
    CHECK(strcmp(seen->content_type, "text/html; charset=utf-8") == 0);
    nobody.cert = "client";

    seen = navigate(gateway, &alice, "GET", "/hello?x=1", "none");
    check_refused(seen, "login_started", 302);
    CHECK_EQ(seen->fetches.metadata, 1);
    CHECK_EQ(seen->cookies_set, 1);
    CHECK(begins(seen->location, issuer));
    CHECK(strstr(seen->location, "code_challenge_method=S256") != NULL);
    CHECK(strstr(seen->location, "client_id=web&redirect_uri=https%3A%2F%2Fapi.test%2Fcallback") != NULL);

    back = log_in_at_server(seen->location);
    CHECK(begins(back, "/callback?"));
    before = alice;

    /* The login is of this browser and of this certificate. */

    seen = navigate(gateway, &nobody, "GET", back, "cross-site");
    check_refused(seen, "login_state_missing", 400);
    CHECK(strcmp(seen->content_type, "text/html; charset=utf-8") == 0);
    other = alice;
    other.cert = "rsa";
    seen = navigate(gateway, &other, "GET", back, "cross-site");
    check_refused(seen, "login_state_invalid", 400);
    CHECK_EQ(seen->fetches.token, 0);

    seen = navigate(gateway, &alice, "GET", back, "cross-site");
    ends_login(seen);
    CHECK(seen->stores >= 1);
    CHECK_EQ(seen->fetches.jwks, 1);
    CHECK_EQ(seen->fetches.introspection, is_opaque);
    CHECK_EQ(alice.n, 1);
    CHECK(cookie_of(&alice, SESSION) != NULL && cookie_of(&alice, SESSION "_login_") == NULL);

    /* It ends once. */

    seen = navigate(gateway, &alice, "GET", back, "cross-site");
    check_refused(seen, "login_state_missing", 400);
    seen = navigate(gateway, &before, "GET", back, "cross-site");
    check_refused(seen, "login_state_reused", 400);
    CHECK_EQ(seen->fetches.token, 0);
}


static void
test_session(void)
{
    int            i;
    browser_t      with_more;
    const seen_t  *seen;

    for (i = 0; i < 2; i++) {
        seen = call(gateway, &alice, "/hello", NULL);
        check_allowed(seen);
        CHECK_EQ(seen->stores, in_store);
        CHECK_EQ(seen->is_at_once, !in_store);
        CHECK_EQ(seen->cookies_set, 0);
        CHECK_EQ(seen->detail[0], '\0');

        /* The upstream gets the token, and not the cookie. */

        CHECK(begins(seen->authorization, is_opaque ? "Bearer " : "Bearer ey"));
        CHECK(seen->is_cookie_removed);
        CHECK(!is_stored(gateway, seen->authorization + strlen("Bearer ")));
    }

    with_more = alice;
    take_cookie(&with_more, SESSION "_3=x; Path=/; Secure; HttpOnly; SameSite=Lax");
    snprintf(with_more.cookies[1].name, sizeof(with_more.cookies[1].name), "theme");
    snprintf(with_more.cookies[1].value, sizeof(with_more.cookies[1].value), "dark");
    seen = call(gateway, &with_more, "/hello", "Bearer x");
    check_allowed(seen);
    CHECK(strcmp(seen->cookie, "theme=dark") == 0 && !seen->is_cookie_removed);
    CHECK(strcmp(seen->authorization, "Bearer x") != 0);

    seen = navigate(gateway, &alice, "POST", "/hello", "same-origin");
    check_allowed(seen);
}


static void
test_certificate(void)
{
    browser_t      thief;
    const seen_t  *seen;

    thief = alice;
    thief.cert = NULL;
    seen = call(gateway, &thief, "/hello", NULL);
    check_refused(seen, "session_certificate_missing", 401);
    CHECK_EQ(seen->cookies_set, 0);

    thief.cert = "rsa";
    seen = call(gateway, &thief, "/hello", NULL);
    check_refused(seen, "session_certificate_mismatch", 401);
    CHECK(kb_reason_is_binding(seen->reason) == 1);
    CHECK_EQ(thief.n, 0);
    thief = alice;
    thief.cert = "rsa";
    seen = navigate(gateway, &thief, "GET", "/hello", "none");
    check_refused(seen, "session_certificate_mismatch", 401);
    CHECK(strcmp(seen->content_type, "text/html; charset=utf-8") == 0);
    CHECK(begins(seen->body, "<!doctype html>"));

    seen = call(gateway, &alice, "/hello", NULL);
    check_allowed(seen);
}


static void
test_store_fails(void)
{
    const char    *back;
    browser_t      second;
    const seen_t  *seen;

    memset(&second, 0, sizeof(second));
    second.cert = "client";
    back = begins_login(gateway, &second);

    /* Whether the login was used before is unknown then, and so it is not used. */

    gateway->store_fails = 1;
    seen = navigate(gateway, &second, "GET", back, "cross-site");
    check_refused(seen, "store_unavailable", 503);
    CHECK_EQ(seen->fetches.token, 0);
    CHECK(seen->retry_after_s > 0);
    CHECK(cookie_of(&second, SESSION) == NULL);

    seen = call(gateway, &alice, "/hello", NULL);

    if (in_store) {
        check_refused(seen, "store_unavailable", 503);
        CHECK(seen->retry_after_s > 0);

    } else {
        check_allowed(seen);
    }

    gateway->store_fails = 0;
    seen = call(gateway, &alice, "/hello", NULL);
    check_allowed(seen);
    back = begins_login(gateway, &second);
    ends_login(navigate(gateway, &second, "GET", back, "cross-site"));
}


static void
test_refresh(void)
{
    char           old[8192], new[8192];
    browser_t      before, thief;
    const seen_t  *seen;

    seen = call(gateway, &alice, "/hello", NULL);
    check_allowed(seen);
    CHECK_EQ(seen->fetches.token, 0);
    memcpy(old, seen->authorization, sizeof(old));
    before = thief = alice;

    /* A thief does not refresh. */

    gateway->ahead = LATER;
    thief.cert = "rsa";
    seen = call(gateway, &thief, "/hello", NULL);
    check_refused(seen, "session_certificate_mismatch", 401);
    CHECK_EQ(seen->fetches.token, 0);

    seen = call(gateway, &alice, "/hello", NULL);
    check_allowed(seen);
    CHECK_EQ(seen->fetches.token, 1);
    CHECK(seen->cookies_set >= 1);
    CHECK(strcmp(seen->authorization, old) != 0);
    memcpy(new, seen->authorization, sizeof(new));

    /* So does the new cookie, and for a while the old one, which another tab may have sent meanwhile. */

    seen = call(gateway, &alice, "/hello", NULL);
    check_allowed(seen);
    CHECK_EQ(seen->fetches.token, 0);
    CHECK(strcmp(seen->authorization, new) == 0);
    seen = call(gateway, &before, "/hello", NULL);
    check_allowed(seen);
    CHECK_EQ(seen->fetches.token, 0);
    CHECK(strcmp(seen->authorization, new) == 0);
}


static void
test_logout(void)
{
    const char    *back;
    browser_t      before, thief;
    const seen_t  *seen;

    memset(&alice, 0, sizeof(alice));
    alice.cert = "client";
    gateway->ahead = 0;
    back = begins_login(gateway, &alice);
    ends_login(navigate(gateway, &alice, "GET", back, "cross-site"));

    /* In use, a session is written anew each minute. */

    gateway->ahead = MINUTE;
    seen = call(gateway, &alice, "/hello", NULL);
    check_allowed(seen);
    CHECK_EQ(seen->cookies_set, 1);
    before = thief = alice;

    /* Neither another site nor a thief logs out. */

    seen = navigate(gateway, &alice, "POST", "/logout", "cross-site");
    check_refused(seen, "logout_cross_site", 403);
    thief.cert = "rsa";
    seen = navigate(gateway, &thief, "POST", "/logout", "same-origin");
    check_refused(seen, "session_certificate_mismatch", 401);
    CHECK_EQ(seen->fetches.revocation, 0);
    check_allowed(call(gateway, &alice, "/hello", NULL));

    seen = navigate(gateway, &alice, "POST", "/logout", "same-origin");
    check_refused(seen, "logged_out", 302);
    CHECK(begins(seen->location, issuer));
    CHECK(strstr(seen->location, "id_token_hint=ey") != NULL);
    CHECK(strstr(seen->location, "post_logout_redirect_uri=https%3A%2F%2Fapi.test%2Flogged-out") != NULL);
    CHECK_EQ(alice.n, 0);

    /* The refresh token and the access token: this server revokes no JWTs, and the log is told. */

    CHECK_EQ(seen->fetches.revocation, 2);

    if (is_opaque) {
        CHECK_EQ(seen->detail[0], '\0');

    } else {
        CHECK(strstr(seen->detail, "the access_token could not be revoked") != NULL);
        CHECK(strstr(seen->detail, "unsupported_token_type") != NULL);
    }

    check_refused(call(gateway, &alice, "/hello", NULL), "no_token", 401);

    /* Of a session in the store a copy of the cookie is of no more use at once, of others when it would be written anew. */

    gateway->ahead = in_store ? MINUTE : 2 * MINUTE;
    seen = call(gateway, &before, "/hello", NULL);
    check_refused(seen, "session_expired", 401);
}


static uint64_t
counted(const gateway_t *g, const char *start)
{
    char        sample[1024];
    size_t      i, n;
    uint64_t    values[4096];
    kb_counter  counter;

    CHECK_EQ(kb_engine_counters(g->engine, values, sizeof(values) / sizeof(values[0]), &n), KB_OK);
    counter.struct_size = sizeof(counter);

    for (i = 0; kb_engine_counter(g->engine, i, &counter) == KB_OK; i++) {
        copy(sample, counter.sample);

        if (begins(sample, start)) {
            return values[i];
        }
    }

    CHECK(!"there is such a counter");

    return 0;
}


/* Of a token that is bound to the gateway, nobody proves possession: only who says so gets that, and each request is told. */

static void
test_password(void)
{
    request_t      request;
    browser_t      browser, plain;
    gateway_t     *g;
    const seen_t  *seen;

    static const char  counter[] = "keybound_binding_skipped_total{method=\"password\"";
    static const char  note[] = "proof of possession was not checked, method=password";

    g = new_gateway("\"auth_methods\":[\"session\",\"password\"],\"proof_of_possession_auth_methods_validation\":false,"
                    "\"password_param_type\":[\"header\",\"body\"]");
    CHECK_EQ(kb_engine_needs(g->engine), KB_NEEDS_HTTP | KB_NEEDS_FORM | KB_NEEDS_STORE | KB_NEEDS_FETCH | KB_NEEDS_LOGIN);

    memset(&browser, 0, sizeof(browser));
    memset(&plain, 0, sizeof(plain));
    check_refused(call(g, &browser, "/hello", NULL), "no_token", 401);

    /* alice:wrong, alice:alice-password */

    seen = call(g, &browser, "/hello", "Basic YWxpY2U6d3Jvbmc=");
    check_refused(seen, "credentials_refused", 401);
    CHECK_EQ(seen->fetches.token, 1);
    CHECK_EQ(browser.n, 0);
    CHECK_EQ(counted(g, counter), 0);

    seen = call(g, &browser, "/hello", "Basic YWxpY2U6YWxpY2UtcGFzc3dvcmQ=");
    check_allowed(seen);
    CHECK_EQ(seen->fetches.token, 1);
    CHECK(begins(seen->authorization, "Bearer ey"));
    CHECK(strcmp(seen->detail, note) == 0);
    CHECK_EQ(counted(g, counter), 1);
    CHECK(cookie_of(&browser, SESSION) != NULL);

    /* The same in a form: the token is remembered. */

    memset(&request, 0, sizeof(request));
    request.method = "POST";
    request.target = "/hello";
    request.form = "username=alice&password=alice-password";
    request.is_program = 1;
    seen = ask(g, &plain, &request);
    check_allowed(seen);
    CHECK_EQ(seen->fetches.token, 0);
    CHECK(strcmp(seen->detail, note) == 0);

    memset(&plain, 0, sizeof(plain));
    request.form = "username=alice&password=alice-password&password=x";
    check_refused(ask(g, &plain, &request), "credentials_malformed", 400);

    /* The session goes on without the password, and the proof is not checked either. */

    seen = call(g, &browser, "/hello", NULL);
    check_allowed(seen);
    CHECK(strcmp(seen->detail, "proof of possession was not checked, method=session") == 0);
    CHECK_EQ(counted(g, counter), 2);
    free_gateway(g);
}


/* A client that goes away, and an engine that goes before its last request. */

static void
test_half_way(void)
{
    kb_str        name, value;
    gateway_t    *g;
    request_t     request;
    browser_t     browser;
    kb_answer     failed;
    kb_decision   decision;
    kb_response   response;

    memset(&request, 0, sizeof(request));
    memset(&browser, 0, sizeof(browser));
    request.method = "GET";
    request.target = "/hello";
    browser.cert = "client";

    g = new_gateway("\"auth_methods\":[\"session\",\"authorization_code\"],\"session_bind_certificate\":true,"
                    "\"redirect_uri\":\"https://api.test/callback\"");

    decision = begin(g, &browser, &request);
    CHECK_EQ(decision.step, KB_STEP_FETCH);
    kb_check_free(decision.check);

    decision = begin(g, &browser, &request);
    CHECK_EQ(decision.step, KB_STEP_FETCH);
    free_gateway(g);

    memset(&failed, 0, sizeof(failed));
    failed.struct_size = sizeof(failed);
    failed.outcome = KB_FETCH_CONNECT;
    CHECK_EQ(kb_check_fetched(decision.check, (int64_t) time(NULL), &failed), KB_OK);
    CHECK_EQ(kb_check_step(decision.check), KB_STEP_RESPOND);
    CHECK(strcmp(kb_reason_code(kb_check_reason(decision.check)), "metadata_unavailable") == 0);
    CHECK_EQ(kb_check_response(decision.check, &response), KB_OK);
    CHECK_EQ(response.status, 503);
    CHECK(str_is(response.content_type, "text/html; charset=utf-8"));
    CHECK_EQ(kb_check_response_header(decision.check, 0, &name, &value), KB_OK);
    CHECK(str_is(name, "cache-control") && str_is(value, "no-store"));
    kb_check_free(decision.check);
}


int
main(int argc, char **argv)
{
    int     i;
    size_t  j;
    char    name[256], options[1024];

    static const struct {
        const char  *name;
        void       (*test)(void);
    } tests[] = {
        { "a browser logs in, once", test_login },
        { "the session, its token and its cookies", test_session },
        { "the session is bound to the certificate", test_certificate },
        { "the store fails", test_store_fails },
        { "the token is refreshed", test_refresh },
        { "the user logs out", test_logout },
    };

    if (argc != 3) {
        fprintf(stderr, "usage: login PKI ISSUER\n");
        return 2;
    }

    snprintf(pki, sizeof(pki), "%s", argv[1]);
    snprintf(issuer, sizeof(issuer), "%s", argv[2]);

    if (check_abi() != 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return 3;
    }

    for (i = 0; i < 2; i++) {
        in_store = is_opaque = i;
        snprintf(options, sizeof(options),
                 "\"auth_methods\":[\"session\",\"authorization_code\"%s],\"session_storage\":\"%s\",%s"
                 "\"session_bind_certificate\":true,\"redirect_uri\":\"https://api.test/callback\",\"scopes\":[\"openid\",\"read\"],"
                 "\"logout_uri_suffix\":\"/logout\",\"logout_redirect_uri\":\"https://api.test/logged-out\"",
                 is_opaque ? ",\"introspection\"" : "", in_store ? "store" : "cookie",
                 is_opaque ? "\"authorization_query_args_names\":[\"resource\"],"
                             "\"authorization_query_args_values\":[\"https://api.test/opaque\"]," : "");
        gateway = new_gateway(options);

        for (j = 0; j < sizeof(tests) / sizeof(tests[0]); j++) {
            snprintf(name, sizeof(name), "%s: %s", in_store ? "store, opaque token" : "cookie, JWT", tests[j].name);
            run_test(name, tests[j].test);
        }

        free_gateway(gateway);
    }

    run_test("a password, although nothing is bound to the client", test_password);
    run_test("half way, the client or the engine is gone", test_half_way);
    curl_global_cleanup();

    return tests_failed ? 1 : 0;
}
