/*
 * The gateway as a client of authorization servers: the steps that a host in C takes. The answers are scripted: no network here.
 *
 *     steps DIRECTORY     with the files that mint wrote
 */

#include "data.h"


#define ISSUER    "https://as.example"
#define OPAQUE    "Bearer 2YotnFZFEjr1zCsicMWpAA+/~=="
#define DISCOVER  "{\"issuer\":\"" ISSUER "\",\"audience_required\":[\"https://api.example\"],\"ssl_verify\":false%s}"
#define CLIENT \
    "{\"issuer\":\"" ISSUER "\",\"audience_required\":[\"https://api.example\"],\"auth_methods\":[\"introspection\"]," \
    "\"client_id\":\"gate & way\",\"mtls_introspection_endpoint\":\"https://mtls.example:8443/introspect?x=1\"," \
    "\"tls_client_auth_cert_id\":\"gateway\",\"ssl_trusted_certificate\":\"/etc/ca.pem\"," \
    "\"client_certificates\":{\"gateway\":{\"certificate\":\"/etc/gateway.pem\"," \
    "\"private_key\":\"-----BEGIN PRIVATE KEY-----\\nx\"}}," \
    "\"connect_timeout\":101,\"send_timeout\":102,\"read_timeout\":103,\"timeout\":104%s}"
#define SECRET(c)  ",\"store_secret\":\"" c "0123456789abcdef0123456789abcdef\""

#define METADATA  "{\"issuer\":\"" ISSUER "\",\"jwks_uri\":\"" ISSUER "/keys\"}"
#define INACTIVE  "{\"active\":false}"
#define JSON      "application/json"

#define HEAD      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


static data_t     header, der, other, jwks;
static data_t     dpop_header, dpop_proof, dpop_2_proof, dpop_other_proof;
static char       active[1024];


#define new_engine(format, options)       new_engine_((format), (options), __LINE__)
#define check_ends(...)                   FROM_HERE(check_ends_(__VA_ARGS__))
#define check_step(check, expected)       CHECK_EQ(kb_check_step(check), (expected))
#define reason_is(reason, code)           (strcmp(code_of(reason), (code)) == 0)


static const char *
code_of(uint32_t reason)
{
    const char  *code;

    code = kb_reason_code(reason);

    return code ? code : "";
}


static kb_engine *
new_engine_(const char *format, const char *options, int line)
{
    int         len;
    char        text[4096];
    kb_engine  *made;

    len = snprintf(text, sizeof(text), format, options);

    if (kb_engine_new((const uint8_t *) text, (size_t) len, &made, NULL, 0, NULL) != KB_OK) {
        fprintf(stderr, "%s:%d: no engine\n", __FILE__, line);
        exit(3);
    }

    return made;
}


/* Begins a request; the caller frees the check. */

static kb_check *
begin(const kb_engine *engine, kb_str authorization, const data_t *cert)
{
    kb_facts     facts;
    kb_decision  decision;

    facts = facts_for(authorization, cert, KB_CERT_DER);
    decide(engine, &facts, &decision);
    CHECK(decision.check != NULL && decision.step == kb_check_step(decision.check));
    CHECK_EQ(decision.reason, 0);
    CHECK_EQ(decision.response.status, 0);
    CHECK(decision.token_id != 0);

    return decision.check;
}


static kb_check *
begin_opaque(const kb_engine *engine)
{
    return begin(engine, str_of(OPAQUE), &der);
}


static kb_answer
answer_of(uint32_t status, const char *type, kb_str body)
{
    kb_answer  answer;

    memset(&answer, 0, sizeof(answer));
    answer.struct_size = sizeof(answer);
    answer.outcome = KB_FETCH_ANSWERED;
    answer.status = status;
    answer.content_type = str_of(type);
    answer.body = body;
    answer.elapsed_us = 1500;

    return answer;
}


static kb_answer
failure_of(uint32_t outcome)
{
    kb_answer  answer;

    answer = answer_of(0, NULL, str_of(NULL));
    answer.outcome = outcome;

    return answer;
}


static void
feed(kb_check *check, const char *json)
{
    kb_answer  answer;

    answer = answer_of(200, JSON, str_of(json));
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
}


static kb_fetch
fetch_of(const kb_check *check)
{
    kb_fetch  fetch;

    memset(&fetch, 0, sizeof(fetch));
    fetch.struct_size = sizeof(fetch);
    CHECK_EQ(kb_check_fetch(check, &fetch), KB_OK);

    return fetch;
}


static kb_store
store_of(const kb_check *check)
{
    kb_store  store;

    memset(&store, 0, sizeof(store));
    store.struct_size = sizeof(store);
    CHECK_EQ(kb_check_store(check, &store), KB_OK);

    return store;
}


/* The check is over, and freed. */

static void
check_ends_(kb_check *check, const char *code, uint32_t status, uint32_t retry_after_s, const char *detail)
{
    kb_str       said, claims;
    kb_response  response;

    check_step(check, status == 0 ? KB_STEP_ALLOW : KB_STEP_RESPOND);
    CHECK(reason_is(kb_check_reason(check), code));

    memset(&response, 0, sizeof(response));
    CHECK_EQ(kb_check_response(check, &response), status == 0 ? KB_E_STATE : KB_OK);
    CHECK_EQ(response.status, status);
    CHECK_EQ(response.retry_after_s, retry_after_s);
    CHECK_EQ(response.www_authenticate.ptr != NULL, status == 401);
    CHECK_EQ(kb_check_claims(check, &claims), status == 0 ? KB_OK : KB_E_STATE);

    CHECK_EQ(kb_check_detail(check, &said), KB_OK);
    CHECK(detail != NULL ? str_is(said, detail) : said.ptr == NULL);

    kb_check_free(check);
}


static void
check_fetches(const kb_check *check, const char *method, const char *url, const char *endpoint)
{
    kb_fetch  fetch;

    check_step(check, KB_STEP_FETCH);
    fetch = fetch_of(check);
    CHECK(str_is(fetch.method, method) && str_is(fetch.url, url) && str_is(fetch.endpoint, endpoint));
}


static void
test_introspection_request(void)
{
    size_t      i;
    kb_str      name, value;
    kb_fetch    fetch;
    kb_check   *check;
    kb_engine  *engine;

    static const char *const  headers[][2] = {
        { "accept", JSON }, { "content-type", "application/x-www-form-urlencoded" }
    };

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);

    check_fetches(check, "POST", "https://mtls.example:8443/introspect?x=1", "introspection");
    fetch = fetch_of(check);
    CHECK(str_is(fetch.body, "token=2YotnFZFEjr1zCsicMWpAA%2B%2F%7E%3D%3D&token_type_hint=access_token&client_id=gate+%26+way"));
    CHECK(str_is(fetch.issuer, ISSUER));
    CHECK(str_is(fetch.authority, "mtls.example:8443") && str_is(fetch.target, "/introspect?x=1"));
    CHECK_EQ(fetch.flight.len, 32);
    CHECK_EQ(fetch.max_body, 256 * 1024);
    CHECK_EQ(fetch.tls, 0);
    CHECK_EQ(fetch.connect_timeout_ms, 101);
    CHECK_EQ(fetch.send_timeout_ms, 102);
    CHECK_EQ(fetch.read_timeout_ms, 103);
    CHECK_EQ(fetch.timeout_ms, 104);
    CHECK_EQ(kb_check_reason(check), 0);

    for (i = 0; i < 2; i++) {
        CHECK_EQ(kb_check_fetch_header(check, i, &name, &value), KB_OK);
        CHECK(str_is(name, headers[i][0]) && str_is(value, headers[i][1]));
    }

    CHECK_EQ(kb_check_fetch_header(check, i, &name, &value), KB_E_RANGE);
    CHECK_EQ(kb_check_fetch_header(check, SIZE_MAX, &name, &value), KB_E_RANGE);

    kb_check_free(check);
    kb_engine_free(engine);
}


static void
test_flights(void)
{
    kb_fetch    first, same, another;
    kb_check   *checks[3];
    kb_answer   answer;
    kb_engine  *engine;

    engine = new_engine(CLIENT, "");
    checks[0] = begin_opaque(engine);
    checks[1] = begin(engine, str_of(OPAQUE), &other);
    checks[2] = begin(engine, str_of("Bearer another"), &der);

    first = fetch_of(checks[0]);
    same = fetch_of(checks[1]);
    another = fetch_of(checks[2]);
    CHECK(memcmp(first.flight.ptr, same.flight.ptr, 32) == 0);
    CHECK(memcmp(first.flight.ptr, another.flight.ptr, 32) != 0);

    /* One answer for both, and each is judged by its own certificate. */

    answer = answer_of(200, JSON, str_of(active));
    CHECK_EQ(kb_check_fetched(checks[0], NOW, &answer), KB_OK);
    answer.joined = 1;
    CHECK_EQ(kb_check_fetched(checks[1], NOW, &answer), KB_OK);
    check_ends(checks[0], "allowed", 0, 0, NULL);
    check_ends(checks[1], "certificate_mismatch", 401, 0, NULL);

    kb_check_free(checks[2]);
    kb_engine_free(engine);
}


static void
test_introspection_active(void)
{
    kb_str        claims;
    kb_facts      facts;
    kb_check     *check;
    kb_engine    *engine;
    kb_decision   decision;

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    feed(check, active);

    check_step(check, KB_STEP_ALLOW);
    CHECK_EQ(kb_check_claims(check, &claims), KB_OK);
    CHECK(str_is(claims, active));
    check_ends(check, "allowed", 0, 0, NULL);

    /* From now on it is remembered: what the certificate must be, too. */

    facts = facts_for(str_of(OPAQUE), &der, KB_CERT_DER);
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    CHECK(decision.check == NULL);

    facts = facts_for(str_of(OPAQUE), &other, KB_CERT_DER);
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK_EQ(decision.response.status, 401);
    CHECK(reason_is(decision.reason, "certificate_mismatch"));
    CHECK(decision.check == NULL && decision.token_id != 0);

    facts = facts_for(str_of(OPAQUE), NULL, KB_CERT_NONE);
    decide(engine, &facts, &decision);
    CHECK(reason_is(decision.reason, "certificate_missing"));

    facts = facts_for(str_of(OPAQUE), &der, KB_CERT_DER);
    facts.flags = KB_WANT_CLAIMS;
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    CHECK_EQ(kb_check_claims(decision.check, &claims), KB_OK);
    CHECK(str_is(claims, active));

    kb_check_free(decision.check);
    kb_engine_free(engine);
}


static void
test_introspection_inactive(void)
{
    kb_facts      facts;
    kb_check     *check;
    kb_engine    *engine;
    kb_decision   decision;

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    feed(check, INACTIVE);
    check_ends(check, "token_inactive", 401, 0, NULL);

    /* That is remembered as well, for a while. */

    facts = facts_for(str_of(OPAQUE), &der, KB_CERT_DER);
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK(reason_is(decision.reason, "token_inactive"));
    CHECK(decision.check == NULL);

    facts.now_s = NOW + 5;
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_FETCH);

    kb_check_free(decision.check);
    kb_engine_free(engine);
}


static void
test_introspection_failures(void)
{
    size_t      i;
    kb_check   *check;
    kb_answer   answer;
    kb_engine  *engine;

    static const struct {
        uint32_t     outcome;
        const char  *detail;
    } outcomes[] = {
        { KB_FETCH_RESOLVE, "the name could not be resolved" },
        { KB_FETCH_CONNECT, "no connection" },
        { KB_FETCH_TLS, "no TLS connection, or the server's certificate is not trusted" },
        { KB_FETCH_TIMEOUT, "no answer in time" },
        { KB_FETCH_MALFORMED, "the answer is not HTTP, or ended early" },
        { KB_FETCH_TOO_LARGE, "the answer is larger than 262144 bytes" },
        { KB_FETCH_BUSY, "too many requests are under way" },
    };

    static const struct {
        uint32_t     status;
        const char  *type, *body, *code, *detail;
    } answers[] = {
        { 100, JSON, NULL, "introspection_unavailable", "status 100" },
        { 204, JSON, NULL, "introspection_unavailable", "status 204" },
        { 302, JSON, NULL, "introspection_unavailable", "status 302" },
        { 400, JSON, "{}", "introspection_unavailable", "status 400" },
        { 500, JSON, NULL, "introspection_unavailable", "status 500" },
        { 599, JSON, NULL, "introspection_unavailable", "status 599" },
        { 401, JSON, NULL, "client_refused", "the introspection endpoint answered 401" },
        { 400, JSON, "{\"error\":\"invalid_client\"}", "client_refused", "the introspection endpoint answered 400" },
        { 200, NULL, "{\"active\":true}", "introspection_unavailable", "the answer is not application/json" },
        { 200, "text/html", "{\"active\":true}", "introspection_unavailable", "the answer is not application/json" },
        { 200, JSON, "{\"active\":1}", "introspection_unavailable", "the response has no boolean \"active\"" },
    };

    engine = new_engine(CLIENT, "");

    for (i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        check = begin_opaque(engine);
        answer = failure_of(outcomes[i].outcome);

        /* A failure has no body, whatever lies there. */

        answer.content_type = str_of(JSON);
        answer.body = str_of(active);
        CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
        check_ends(check, "introspection_unavailable", 503, 5, outcomes[i].detail);
    }

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        check = begin_opaque(engine);
        answer = answer_of(answers[i].status, answers[i].type, str_of(answers[i].body));
        CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
        check_ends(check, answers[i].code, 503, 5, answers[i].detail);
    }

    /* Not even what was in the answer is a reason to allow: the next check asks again. */

    check = begin_opaque(engine);
    check_step(check, KB_STEP_FETCH);
    kb_check_free(check);
    kb_engine_free(engine);
}


static void
test_retry_after(void)
{
    kb_facts      facts;
    kb_check     *check;
    kb_answer     answer;
    kb_engine    *engine;
    kb_decision   decision;

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    answer = answer_of(503, JSON, str_of(NULL));
    answer.retry_after = str_of("30");
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    check_ends(check, "introspection_unavailable", 503, 5, "status 503");

    facts = facts_for(str_of("Bearer another"), &der, KB_CERT_DER);
    facts.now_s = NOW + 29;
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK_EQ(decision.response.status, 503);
    CHECK_EQ(decision.response.retry_after_s, 5);
    CHECK(reason_is(decision.reason, "introspection_unavailable"));
    kb_check_free(decision.check);

    facts.now_s = NOW + 30;
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_FETCH);

    kb_check_free(decision.check);
    kb_engine_free(engine);
}


static void
feed_jwks(kb_check *check)
{
    kb_answer  answer;

    answer = answer_of(200, JSON, str(&jwks));
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
}


static void
test_discovery(void)
{
    kb_fetch      fetch;
    kb_facts      facts;
    kb_check     *check;
    kb_answer     answer;
    kb_engine    *engine;
    kb_decision   decision;

    engine = new_engine(DISCOVER, "");
    check = begin(engine, str(&header), &der);

    /* OpenID Connect's place for the document first, then that of RFC 8414. */

    check_fetches(check, "GET", ISSUER "/.well-known/openid-configuration", "metadata");
    fetch = fetch_of(check);
    CHECK(str_is(fetch.authority, "as.example") && str_is(fetch.target, "/.well-known/openid-configuration"));
    CHECK(fetch.body.ptr == NULL);
    CHECK_EQ(fetch.flight.len, 32);
    answer = answer_of(404, NULL, str_of(NULL));
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);

    check_fetches(check, "GET", ISSUER "/.well-known/oauth-authorization-server", "metadata");
    feed(check, METADATA);

    check_fetches(check, "GET", ISSUER "/keys", "jwks");
    feed_jwks(check);
    check_ends(check, "allowed", 0, 0, NULL);

    /* The next token needs no steps. */

    facts = facts_for(str(&header), &other, KB_CERT_DER);
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK(reason_is(decision.reason, "certificate_mismatch"));

    kb_engine_free(engine);
}


/* What is missing then are the keys; the detail says why. */

static void
test_discovery_failures(void)
{
    kb_check   *check;
    kb_answer   answer;
    kb_engine  *engine;

    engine = new_engine(DISCOVER, "");
    check = begin(engine, str(&header), &der);
    answer = failure_of(KB_FETCH_CONNECT);
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    check_ends(check, "keys_unavailable", 503, 5, ISSUER "/.well-known/openid-configuration: no connection");
    kb_engine_free(engine);

    /* Another issuer's document, and one that leads elsewhere. */

    engine = new_engine(DISCOVER, "");
    check = begin(engine, str(&header), &der);
    feed(check, "{\"issuer\":\"" ISSUER "/\",\"jwks_uri\":\"" ISSUER "/keys\"}");
    check_fetches(check, "GET", ISSUER "/.well-known/oauth-authorization-server", "metadata");
    answer = answer_of(404, NULL, str_of(NULL));
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    check_ends(check, "keys_unavailable", 503, 5,
               ISSUER "/.well-known/openid-configuration: the metadata's issuer is not exactly " ISSUER "; "
               ISSUER "/.well-known/oauth-authorization-server: status 404");
    kb_engine_free(engine);

    engine = new_engine(DISCOVER, "");
    check = begin(engine, str(&header), &der);
    feed(check, "{\"issuer\":\"" ISSUER "\",\"jwks_uri\":\"https://elsewhere.example/keys\"}");
    check_ends(check, "keys_unavailable", 503, 5,
               "jwks_uri of the metadata names the host elsewhere.example, which is neither the issuer's nor in endpoint_hosts");
    kb_engine_free(engine);

    engine = new_engine(DISCOVER, "");
    check = begin(engine, str(&header), &der);
    feed(check, METADATA);
    answer = failure_of(KB_FETCH_TIMEOUT);
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    CHECK(reason_is(kb_check_reason(check), "keys_unavailable"));
    check_step(check, KB_STEP_RESPOND);
    kb_check_free(check);
    kb_engine_free(engine);
}


/* With report_only a check that has its steps behind it passes, whatever came of them, and says what it would be refused for. */

static void
test_report_only(void)
{
    size_t       i;
    kb_str       s, name, value;
    kb_check    *check;
    kb_answer    answer;
    kb_engine   *engine;
    kb_response  response;

    static const struct {
        const char  *body, *code, *detail;
    } cases[] = {
        { NULL, "introspection_unavailable", "no answer in time" },
        { INACTIVE, "token_inactive", NULL },
        { "{\"active\":true", "introspection_unavailable", "" },
    };

    engine = new_engine(CLIENT, ",\"report_only\":true,\"introspection_cache_ttl_neg\":0,"
                                "\"upstream_headers_claims\":[\"sub\"],\"upstream_headers_names\":[\"X-Sub\"]");

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check = begin_opaque(engine);
        check_step(check, KB_STEP_FETCH);

        if (cases[i].body != NULL) {
            feed(check, cases[i].body);

        } else {
            answer = failure_of(KB_FETCH_TIMEOUT);
            CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
        }

        check_step(check, KB_STEP_ALLOW);
        CHECK(reason_is(kb_check_reason(check), cases[i].code));
        CHECK_EQ(kb_check_detail(check, &s), KB_OK);
        CHECK_EQ(s.ptr != NULL, cases[i].detail != NULL);

        if (cases[i].detail != NULL && cases[i].detail[0] != '\0') {
            CHECK(str_is(s, cases[i].detail));
        }

        fill(&name);
        fill(&value);
        fill(&response);
        CHECK_EQ(kb_check_claims(check, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_claim(check, (const uint8_t *) "active", 6, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_header(check, 0, &name, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_response_header(check, 0, &name, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_response(check, &response), KB_E_STATE);
        CHECK(untouched(&name) && untouched(&value) && untouched(&response));
        kb_check_free(check);
    }

    /* The twin that is allowed. */

    check = begin_opaque(engine);
    feed(check, active);
    check_ends(check, "allowed", 0, 0, NULL);
    kb_engine_free(engine);
}


/* What a store holds: one entry is enough for one token. */

typedef struct {
    size_t   len;
    uint8_t  key[32], value[4096];
} entry_t;


/* Takes a check from the introspection to ALLOW, and what it wants stored. */

static void
fill_store(kb_check *check, entry_t *entry)
{
    kb_store  store;

    check_step(check, KB_STEP_FETCH);
    feed(check, active);

    check_step(check, KB_STEP_STORE);
    store = store_of(check);
    CHECK_EQ(store.operation, KB_STORE_PUT);
    CHECK_EQ(store.ttl_s, 60);
    CHECK_EQ(store.delay_ms, 0);
    CHECK_EQ(store.flags, KB_STORE_CACHE);
    CHECK_EQ(store.key.len, sizeof(entry->key));
    CHECK(store.value.len > 0 && store.value.len <= sizeof(entry->value));
    memcpy(entry->key, store.key.ptr, sizeof(entry->key));
    memcpy(entry->value, store.value.ptr, store.value.len);
    entry->len = store.value.len;

    CHECK_EQ(kb_check_stored(check, NOW, KB_STORED, str_of(NULL)), KB_OK);
    check_ends(check, "allowed", 0, 0, NULL);
}


static kb_check *
begin_stored(const kb_engine *engine, const entry_t *entry)
{
    kb_store   store;
    kb_check  *check;

    check = begin_opaque(engine);
    check_step(check, KB_STEP_STORE);
    store = store_of(check);
    CHECK_EQ(store.operation, KB_STORE_GET);
    CHECK_EQ(store.flags, 0);
    CHECK_EQ(store.key.len, 32);
    CHECK_EQ(store.value.len, 0);
    CHECK(entry == NULL || memcmp(store.key.ptr, entry->key, 32) == 0);

    return check;
}


static kb_str
value_of(const entry_t *entry)
{
    kb_str  value;

    value.ptr = entry->value;
    value.len = entry->len;

    return value;
}


static int
holds(const entry_t *entry, const char *text)
{
    size_t  i, len;

    len = strlen(text);

    for (i = 0; i + len <= entry->len; i++) {
        if (memcmp(entry->value + i, text, len) == 0) {
            return 1;
        }
    }

    return 0;
}


static void
test_store(void)
{
    size_t      i;
    entry_t     entry;
    kb_str      claims;
    kb_check   *check;
    kb_engine  *first, *second, *stranger;

    first = new_engine(CLIENT, SECRET("a"));
    second = new_engine(CLIENT, SECRET("a"));
    stranger = new_engine(CLIENT, SECRET("b"));

    check = begin_stored(first, NULL);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_ABSENT, str_of(NULL)), KB_OK);
    fill_store(check, &entry);
    CHECK(!holds(&entry, "active") && !holds(&entry, "alice") && !holds(&entry, "2YotnFZF"));

    /* Each byte of it counts. */

    for (i = 0; i < entry.len; i++) {
        entry.value[i] ^= 1;
        check = begin_stored(second, &entry);
        CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, value_of(&entry)), KB_OK);
        check_step(check, KB_STEP_FETCH);
        kb_check_free(check);
        entry.value[i] ^= 1;
    }

    /* Under another secret it lies elsewhere; and whoever puts it there changes nothing. */

    check = begin_stored(stranger, NULL);
    CHECK(memcmp(store_of(check).key.ptr, entry.key, 32) != 0);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, value_of(&entry)), KB_OK);
    check_step(check, KB_STEP_FETCH);
    kb_check_free(check);

    check = begin_stored(second, &entry);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, str_of("")), KB_OK);
    check_step(check, KB_STEP_FETCH);
    kb_check_free(check);

    /* Too old: the store kept it for longer than it was told to. */

    check = begin_stored(second, &entry);
    CHECK_EQ(kb_check_stored(check, NOW + 60, KB_STORE_FOUND, value_of(&entry)), KB_OK);
    check_step(check, KB_STEP_FETCH);
    kb_check_free(check);

    check = begin_stored(second, &entry);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, value_of(&entry)), KB_OK);
    check_step(check, KB_STEP_ALLOW);
    CHECK_EQ(kb_check_claims(check, &claims), KB_OK);
    CHECK(str_is(claims, active));
    check_ends(check, "allowed", 0, 0, NULL);

    kb_engine_free(first);
    kb_engine_free(second);
    kb_engine_free(stranger);
}


static void
test_store_fails(void)
{
    uint32_t    answer;
    entry_t     entry;
    kb_check   *check;
    kb_engine  *engine;

    /* Whatever a store says to a GET that is not the value, the server is asked. */

    for (answer = KB_STORED; answer <= KB_STORE_FAILED; answer++) {
        if (answer == KB_STORE_FOUND) {
            continue;
        }

        engine = new_engine(CLIENT, SECRET("a"));
        check = begin_stored(engine, NULL);
        CHECK_EQ(kb_check_stored(check, NOW, answer, str_of(active)), KB_OK);
        fill_store(check, &entry);
        kb_engine_free(engine);
    }

    /* That nothing could be written is no reason to refuse. */

    engine = new_engine(CLIENT, SECRET("a"));
    check = begin_stored(engine, NULL);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FAILED, str_of(NULL)), KB_OK);
    feed(check, active);
    check_step(check, KB_STEP_STORE);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FAILED, str_of(NULL)), KB_OK);
    check_ends(check, "allowed", 0, 0, NULL);
    kb_engine_free(engine);

    /* Of a bad token nothing is written. */

    engine = new_engine(CLIENT, SECRET("a"));
    check = begin_stored(engine, NULL);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_ABSENT, str_of(NULL)), KB_OK);
    feed(check, INACTIVE);
    check_ends(check, "token_inactive", 401, 0, NULL);
    kb_engine_free(engine);
}


/* Keys over a store that is a host's own: every operation is done, in whatever order the library asks. */

typedef struct {
    int      n, fetches;
    entry_t  entries[8];
} map_t;


static entry_t *
find(map_t *map, kb_str key)
{
    int  i;

    for (i = 0; i < map->n; i++) {
        if (map->entries[i].len > 0 && memcmp(map->entries[i].key, key.ptr, key.len) == 0) {
            return &map->entries[i];
        }
    }

    return NULL;
}


static void
perform(map_t *map, kb_check *check)
{
    kb_store  store;
    entry_t  *entry;
    uint32_t  answer;

    store = store_of(check);
    entry = find(map, store.key);
    answer = KB_STORED;
    CHECK(store.ttl_s > 0);

    /* Documents may be forgotten. Locks may not. */

    CHECK_EQ(store.flags, store.operation == KB_STORE_PUT ? KB_STORE_CACHE : 0);

    switch (store.operation) {
    case KB_STORE_GET:
        answer = entry ? KB_STORE_FOUND : KB_STORE_ABSENT;
        break;
    case KB_STORE_DELETE:
        if (entry != NULL) {
            entry->len = 0;
        }
        break;
    default:
        if (entry != NULL && store.operation == KB_STORE_ADD) {
            answer = KB_STORE_EXISTS;
            break;
        }

        CHECK(map->n < 8 && store.value.len > 0 && store.value.len <= sizeof(entry->value));
        entry = entry ? entry : &map->entries[map->n++];
        entry->len = store.value.len;
        memcpy(entry->key, store.key.ptr, store.key.len);
        memcpy(entry->value, store.value.ptr, store.value.len);
    }

    CHECK_EQ(kb_check_stored(check, NOW, answer, answer == KB_STORE_FOUND ? value_of(entry) : str_of(NULL)), KB_OK);
}


static void
run_discovery(map_t *map, const kb_engine *engine)
{
    kb_fetch   fetch;
    kb_check  *check;

    check = begin(engine, str(&header), &der);

    for ( ;; ) {
        switch (kb_check_step(check)) {
        case KB_STEP_STORE:
            perform(map, check);
            continue;
        case KB_STEP_FETCH:
            map->fetches++;
            fetch = fetch_of(check);
            if (str_is(fetch.endpoint, "metadata")) {
                feed(check, METADATA);
            } else {
                feed_jwks(check);
            }
            continue;
        }

        break;
    }

    check_ends(check, "allowed", 0, 0, NULL);
}


static void
test_shared_discovery(void)
{
    kb_engine     *first, *second;
    static map_t   map;

    first = new_engine(DISCOVER, SECRET("a"));
    second = new_engine(DISCOVER, SECRET("a"));

    run_discovery(&map, first);
    CHECK_EQ(map.fetches, 2);
    run_discovery(&map, second);
    CHECK_EQ(map.fetches, 2);

    kb_engine_free(first);
    kb_engine_free(second);
}


static void
test_wrong_step(void)
{
    kb_str        s, t;
    kb_fetch      fetch;
    kb_store      store;
    uint32_t      i;
    kb_check     *check;
    kb_answer     answer;
    kb_engine    *engine;
    kb_response   response;
    kb_exchange  *exchange;

    engine = new_engine(CLIENT, SECRET("a"));
    check = begin_stored(engine, NULL);
    answer = answer_of(200, JSON, str_of(active));
    fill(&s);
    fill(&t);
    fill(&fetch);
    fill(&store);
    fill(&response);
    fill(&exchange);

    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_E_STATE);
    CHECK_EQ(kb_check_fetch(check, &fetch), KB_E_STATE);
    CHECK_EQ(kb_check_fetch_header(check, 0, &s, &t), KB_E_STATE);
    CHECK_EQ(kb_exchange_new(check, &exchange), KB_E_STATE);
    CHECK_EQ(kb_check_response(check, &response), KB_E_STATE);
    CHECK_EQ(kb_check_claims(check, &s), KB_E_STATE);
    CHECK_EQ(kb_check_claim(check, (const uint8_t *) "sub", 3, &s), KB_E_STATE);
    CHECK_EQ(kb_check_header(check, 0, &s, &t), KB_E_STATE);
    check_step(check, KB_STEP_STORE);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_ABSENT, str_of(NULL)), KB_OK);

    for (i = KB_STORED; i <= KB_STORE_FAILED; i++) {
        CHECK_EQ(kb_check_stored(check, NOW, i, str_of(active)), KB_E_STATE);
    }

    CHECK_EQ(kb_check_store(check, &store), KB_E_STATE);
    CHECK_EQ(kb_check_response(check, &response), KB_E_STATE);
    CHECK_EQ(kb_check_claims(check, &s), KB_E_STATE);
    CHECK_EQ(kb_check_claim(check, (const uint8_t *) "sub", 3, &s), KB_E_STATE);
    CHECK_EQ(kb_check_header(check, 0, &s, &t), KB_E_STATE);
    CHECK_EQ(kb_check_reason(check), 0);
    check_step(check, KB_STEP_FETCH);
    feed(check, INACTIVE);

    /* A refusal stays one. */

    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_E_STATE);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, str_of(active)), KB_E_STATE);
    CHECK_EQ(kb_check_fetch(check, &fetch), KB_E_STATE);
    CHECK_EQ(kb_check_store(check, &store), KB_E_STATE);
    CHECK_EQ(kb_check_claims(check, &s), KB_E_STATE);
    CHECK_EQ(kb_check_claim(check, (const uint8_t *) "active", 6, &s), KB_E_STATE);
    CHECK_EQ(kb_exchange_new(check, &exchange), KB_E_STATE);
    CHECK(untouched(&s) && untouched(&t) && untouched(&fetch) && untouched(&store) && untouched(&response) && untouched(&exchange));
    check_ends(check, "token_inactive", 401, 0, NULL);

    kb_engine_free(engine);
}


static void
test_fetched_arguments(void)
{
    size_t      i;
    kb_check   *check;
    kb_answer   answer, good;
    kb_engine  *engine;

    static const uint32_t  outcomes[] = { 0, KB_FETCH_BUSY + 1, 256 + KB_FETCH_ANSWERED, UINT32_MAX };
    static const uint32_t  statuses[] = { 0, 99, 600, 0x10000 + 200, UINT32_MAX };

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    good = answer_of(200, JSON, str_of(active));

    CHECK_EQ(kb_check_fetched(check, NOW, NULL), KB_E_NULL);
    CHECK_EQ(kb_check_fetched(NULL, NOW, &good), KB_E_NULL);
    CHECK_EQ(kb_check_fetched(check, 0, &good), KB_E_ARGUMENT);
    CHECK_EQ(kb_check_fetched(check, -NOW, &good), KB_E_ARGUMENT);
    CHECK_EQ(kb_check_fetched(check, INT64_MIN, &good), KB_E_ARGUMENT);

    for (i = 0; i < SIZE_UP_TO(kb_answer, joined); i++) {
        answer = good;
        answer.struct_size = i;
        CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_E_ARGUMENT);
    }

    for (i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        answer = good;
        answer.outcome = outcomes[i];
        CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_E_ARGUMENT);
    }

    for (i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        answer = good;
        answer.status = statuses[i];
        CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_E_ARGUMENT);
    }

    /* A failure with a status: the host took one for the other. */

    answer = failure_of(KB_FETCH_TLS);
    answer.status = 200;
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_E_ARGUMENT);

    /* A body of which only the length is there is none. */

    check_step(check, KB_STEP_FETCH);
    answer = good;
    answer.body.ptr = NULL;
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    CHECK(reason_is(kb_check_reason(check), "introspection_unavailable"));
    check_step(check, KB_STEP_RESPOND);

    kb_check_free(check);
    kb_engine_free(engine);
}


static void
test_stored_arguments(void)
{
    size_t      i;
    kb_str      no_bytes;
    kb_check   *check;
    kb_engine  *engine;

    static const uint32_t  answers[] = { 0, KB_STORE_FAILED + 1, 256 + KB_STORED, UINT32_MAX };

    engine = new_engine(CLIENT, SECRET("a"));
    check = begin_stored(engine, NULL);
    no_bytes.ptr = NULL;
    no_bytes.len = 40;

    CHECK_EQ(kb_check_stored(NULL, NOW, KB_STORE_ABSENT, str_of(NULL)), KB_E_NULL);
    CHECK_EQ(kb_check_stored(check, 0, KB_STORE_ABSENT, str_of(NULL)), KB_E_ARGUMENT);
    CHECK_EQ(kb_check_stored(check, -NOW, KB_STORE_ABSENT, str_of(NULL)), KB_E_ARGUMENT);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, str_of(NULL)), KB_E_NULL);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, no_bytes), KB_E_NULL);

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        CHECK_EQ(kb_check_stored(check, NOW, answers[i], str_of("x")), KB_E_ARGUMENT);
    }

    check_step(check, KB_STEP_STORE);
    kb_check_free(check);
    kb_engine_free(engine);
}


/* Every output struct with each size that is too small, with none, and with that of a later header. */

#define check_struct(type, last, call) \
    do { \
        size_t  i; \
        struct { \
            type     out; \
            uint8_t  more[64]; \
        } later; \
        type    out, before; \
        type   *arg; \
        \
        for (i = 0; i < SIZE_UP_TO(type, last); i++) { \
            fill(&out); \
            out.struct_size = i; \
            before = out; \
            arg = &out; \
            CHECK_EQ((call), KB_E_ARGUMENT); \
            CHECK(memcmp(&out, &before, sizeof(out)) == 0); \
        } \
        \
        arg = NULL; \
        CHECK_EQ((call), KB_E_NULL); \
        \
        fill(&later); \
        later.out.struct_size = sizeof(later); \
        arg = &later.out; \
        CHECK_EQ((call), KB_OK); \
        CHECK_EQ(later.out.struct_size, sizeof(later)); \
        CHECK(untouched(&later.more)); \
        CHECK(!all_a5((uint8_t *) arg + sizeof(size_t), SIZE_UP_TO(type, last) - sizeof(size_t))); \
    } while (0)


static kb_exchange *
exchange_of(const kb_check *check)
{
    kb_exchange  *exchange;

    exchange = NULL;
    CHECK_EQ(kb_exchange_new(check, &exchange), KB_OK);

    return exchange;
}


static void
test_struct_sizes(void)
{
    kb_check     *check;
    kb_fetch      fetch;
    uint32_t      state;
    kb_engine    *engine;
    kb_exchange  *exchange;

    static const char  response[] = HEAD "Content-Length: 2\r\n\r\n{}";

    struct {
        kb_answer  answer;
        uint8_t    more[64];
    } later;

    engine = new_engine(CLIENT, SECRET("a"));
    check = begin_opaque(engine);
    check_struct(kb_store, value, kb_check_store(check, arg));
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_ABSENT, str_of(NULL)), KB_OK);
    check_struct(kb_fetch, once, kb_check_fetch(check, arg));
    check_struct(kb_tls, verify, kb_engine_tls(engine, 0, arg));
    check_struct(kb_counter, divisor, kb_engine_counter(engine, 0, arg));

    exchange = exchange_of(check);
    CHECK_EQ(kb_exchange_received(exchange, (const uint8_t *) response, sizeof(response) - 1, &state), KB_OK);
    check_struct(kb_answer, joined, kb_exchange_answer(exchange, arg));
    kb_exchange_free(exchange);

    /* A host of an earlier header has a struct that ends with `once`. */

    memset(&fetch, 0xa5, sizeof(fetch));
    fetch.struct_size = offsetof(kb_fetch, authority);
    CHECK_EQ(kb_check_fetch(check, &fetch), KB_OK);
    CHECK(str_is(fetch.method, "POST"));
    CHECK_EQ(fetch.once, 0);
    CHECK(untouched(&fetch.authority) && untouched(&fetch.target));

    /* What a later header has behind an input means nothing to this library. */

    fill(&later);
    later.answer = answer_of(200, JSON, str_of(INACTIVE));
    later.answer.struct_size = sizeof(later);
    CHECK_EQ(kb_check_fetched(check, NOW, &later.answer), KB_OK);
    check_ends(check, "token_inactive", 401, 0, NULL);

    kb_engine_free(engine);
}


static void
test_freed_half_way(void)
{
    kb_check   *checks[5];
    kb_engine  *engine;
    size_t      i;

    engine = new_engine(CLIENT, SECRET("a"));

    for (i = 0; i < 5; i++) {
        checks[i] = begin_stored(engine, NULL);
    }

    for (i = 1; i < 5; i++) {
        CHECK_EQ(kb_check_stored(checks[i], NOW, KB_STORE_ABSENT, str_of(NULL)), KB_OK);
    }

    feed(checks[2], active);
    feed(checks[3], INACTIVE);
    feed(checks[4], active);

    /* They outlive their engine, and one goes on without it. */

    kb_engine_free(engine);

    CHECK_EQ(kb_check_stored(checks[4], NOW, KB_STORED, str_of(NULL)), KB_OK);
    check_ends(checks[4], "allowed", 0, 0, NULL);

    check_step(checks[0], KB_STEP_STORE);
    check_step(checks[1], KB_STEP_FETCH);
    check_step(checks[2], KB_STEP_STORE);
    check_step(checks[3], KB_STEP_RESPOND);

    for (i = 0; i < 4; i++) {
        kb_check_free(checks[i]);
    }
}


/* Nothing of an answer is kept. */

static void
test_answers_are_borrowed(void)
{
    char        body[sizeof(active)], type[] = JSON;
    kb_str      claims;
    kb_check   *check;
    kb_answer   answer;
    kb_engine  *engine;

    engine = new_engine(CLIENT, SECRET("a"));
    check = begin_stored(engine, NULL);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_ABSENT, str_of(NULL)), KB_OK);

    strcpy(body, active);
    answer = answer_of(200, type, str_of(body));
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    fill(&body);
    fill(&type);
    fill(&answer);

    CHECK_EQ(kb_check_stored(check, NOW, KB_STORED, str_of(NULL)), KB_OK);
    CHECK_EQ(kb_check_claims(check, &claims), KB_OK);
    CHECK(str_is(claims, active));
    check_ends(check, "allowed", 0, 0, NULL);

    kb_engine_free(engine);
}


static void
test_exchange(void)
{
    size_t        i;
    char          response[2048];
    int           len;
    kb_str        request, host;
    uint32_t      port, state;
    kb_check     *check;
    kb_answer     answer;
    kb_engine    *engine;
    kb_exchange  *exchange;

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    exchange = exchange_of(check);

    CHECK_EQ(kb_exchange_target(exchange, &host, &port), KB_OK);
    CHECK(str_is(host, "mtls.example"));
    CHECK_EQ(port, 8443);

    CHECK_EQ(kb_exchange_request(exchange, &request), KB_OK);
    CHECK(request.len > 45 && memcmp(request.ptr, "POST /introspect?x=1 HTTP/1.1\r\nHost: mtls.example:8443\r\n", 55) == 0);
    CHECK(memcmp(request.ptr + request.len - 23, "&client_id=gate+%26+way", 23) == 0);

    /* One byte at a time. Until the last one there is no answer. */

    len = snprintf(response, sizeof(response),
                   "HTTP/1.1 100 Continue\r\n\r\n" HEAD "Retry-After: 7\r\nContent-Length: %d\r\n\r\n%s",
                   (int) strlen(active), active);

    memset(&answer, 0, sizeof(answer));
    answer.struct_size = sizeof(answer);

    for (i = 0; i < (size_t) len; i++) {
        CHECK_EQ(kb_exchange_answer(exchange, &answer), KB_E_STATE);
        CHECK_EQ(kb_exchange_reusable(exchange), 0);
        CHECK_EQ(kb_exchange_received(exchange, (const uint8_t *) response + i, 1, &state), KB_OK);
        CHECK_EQ(state, i + 1 < (size_t) len ? KB_EXCHANGE_MORE : KB_EXCHANGE_DONE);
    }

    CHECK_EQ(kb_exchange_answer(exchange, &answer), KB_OK);
    CHECK_EQ(answer.outcome, KB_FETCH_ANSWERED);
    CHECK_EQ(answer.status, 200);
    CHECK(str_is(answer.content_type, JSON) && str_is(answer.retry_after, "7") && str_is(answer.body, active));
    CHECK_EQ(kb_exchange_reusable(exchange), 1);

    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    check_ends(check, "allowed", 0, 0, NULL);

    /* It needs neither check nor engine. A byte that nobody asked for ends the connection's use, not the answer. */

    kb_engine_free(engine);
    CHECK_EQ(kb_exchange_received(exchange, (const uint8_t *) "H", 1, &state), KB_OK);
    CHECK_EQ(state, KB_EXCHANGE_DONE);
    CHECK_EQ(kb_exchange_reusable(exchange), 0);
    CHECK_EQ(kb_exchange_answer(exchange, &answer), KB_OK);
    kb_exchange_free(exchange);
}


static void
test_exchange_ends(void)
{
    size_t        i;
    uint32_t      state;
    kb_check     *check;
    kb_answer     answer;
    kb_engine    *engine;
    kb_exchange  *exchange;

    /* What comes, what it is, and what it is when the server then closes. */

    static const struct {
        const char  *response;
        int32_t      status;
        uint32_t     state;
        uint32_t     reusable;
        int32_t      closed;
    } rows[] = {
        { HEAD "Content-Length: 2\r\n\r\n{}", KB_OK, KB_EXCHANGE_DONE, 1, KB_OK },
        { HEAD "Content-Length: 2\r\nConnection: close\r\n\r\n{}", KB_OK, KB_EXCHANGE_DONE, 0, KB_OK },
        { HEAD "Content-Length: 2\r\n\r\n{}HTTP/1.1 200", KB_OK, KB_EXCHANGE_DONE, 0, KB_OK },
        { HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", KB_OK, KB_EXCHANGE_DONE, 1, KB_OK },
        { "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", KB_OK, KB_EXCHANGE_DONE, 0, KB_OK },
        { HEAD "\r\n{}", KB_OK, KB_EXCHANGE_MORE, 0, KB_OK },
        { "", KB_OK, KB_EXCHANGE_MORE, 0, KB_E_HTTP },
        { "HTTP/1.1 200 OK\r\nContent-", KB_OK, KB_EXCHANGE_MORE, 0, KB_E_HTTP },
        { HEAD "Content-Length: 3\r\n\r\n{}", KB_OK, KB_EXCHANGE_MORE, 0, KB_E_HTTP },
        { HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", KB_OK, KB_EXCHANGE_MORE, 0, KB_E_HTTP },
        { HEAD "Content-Length: 262145\r\n\r\n", KB_E_TOO_LARGE, 0, 0, KB_E_TOO_LARGE },
        { HEAD "Transfer-Encoding: chunked\r\n\r\n40001\r\n", KB_E_TOO_LARGE, 0, 0, KB_E_TOO_LARGE },
        { HEAD "Content-Length: 2\r\nContent-Length: 3\r\n\r\n", KB_E_HTTP, 0, 0, KB_E_HTTP },
        { "SSH-2.0-OpenSSH_9.2\r\n", KB_E_HTTP, 0, 0, KB_E_HTTP },
    };

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    answer = answer_of(200, NULL, str_of(NULL));

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        exchange = exchange_of(check);

        state = 0;
        CHECK_EQ(kb_exchange_received(exchange, (const uint8_t *) rows[i].response, strlen(rows[i].response), &state),
                 rows[i].status);
        CHECK_EQ(state, rows[i].state);
        CHECK_EQ(kb_exchange_reusable(exchange), rows[i].reusable);
        CHECK_EQ(kb_exchange_answer(exchange, &answer), rows[i].state == KB_EXCHANGE_DONE ? KB_OK : KB_E_STATE);

        CHECK_EQ(kb_exchange_closed(exchange, &state), rows[i].closed);
        CHECK_EQ(kb_exchange_reusable(exchange), 0);
        CHECK_EQ(kb_exchange_answer(exchange, &answer), rows[i].closed == KB_OK ? KB_OK : KB_E_STATE);

        kb_exchange_free(exchange);
    }

    kb_check_free(check);
    kb_engine_free(engine);
}


/* Bytes up to the limit are an answer; one more is none. Without a length, the end of the connection tells. */

static void
test_exchange_limit(void)
{
    int             fits;
    size_t          left, n;
    uint32_t        state;
    kb_check       *check;
    kb_answer       answer;
    kb_engine      *engine;
    kb_exchange    *exchange;
    static uint8_t  bytes[5000];

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    answer = answer_of(200, NULL, str_of(NULL));

    for (fits = 0; fits < 2; fits++) {
        exchange = exchange_of(check);
        CHECK_EQ(kb_exchange_received(exchange, (const uint8_t *) HEAD "\r\n", strlen(HEAD "\r\n"), &state), KB_OK);

        for (left = fetch_of(check).max_body; left > 0; left -= n) {
            n = left < sizeof(bytes) ? left : sizeof(bytes);
            CHECK_EQ(kb_exchange_received(exchange, bytes, n, &state), KB_OK);
            CHECK_EQ(state, KB_EXCHANGE_MORE);
        }

        if (fits) {
            CHECK_EQ(kb_exchange_closed(exchange, &state), KB_OK);
            CHECK_EQ(state, KB_EXCHANGE_DONE);
            CHECK_EQ(kb_exchange_answer(exchange, &answer), KB_OK);
            CHECK_EQ(answer.body.len, 256 * 1024);

        } else {
            fill(&state);
            CHECK_EQ(kb_exchange_received(exchange, bytes, 1, &state), KB_E_TOO_LARGE);
            CHECK_EQ(kb_exchange_received(exchange, bytes, 1, &state), KB_E_TOO_LARGE);
            CHECK_EQ(kb_exchange_closed(exchange, &state), KB_E_TOO_LARGE);
            CHECK(untouched(&state));
        }

        kb_exchange_free(exchange);
    }

    kb_check_free(check);
    kb_engine_free(engine);
}


static void
test_exchange_arguments(void)
{
    kb_str        s;
    uint32_t      number;
    kb_check     *check;
    kb_answer     answer;
    kb_engine    *engine;
    kb_exchange  *exchange;

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    fill(&s);
    fill(&number);
    fill(&answer);
    fill(&exchange);

    CHECK_EQ(kb_exchange_new(NULL, &exchange), KB_E_NULL);
    CHECK_EQ(kb_exchange_new(check, NULL), KB_E_NULL);
    CHECK(untouched(&exchange));

    CHECK_EQ(kb_exchange_target(NULL, &s, &number), KB_E_NULL);
    CHECK_EQ(kb_exchange_request(NULL, &s), KB_E_NULL);
    CHECK_EQ(kb_exchange_received(NULL, (const uint8_t *) "H", 1, &number), KB_E_NULL);
    CHECK_EQ(kb_exchange_closed(NULL, &number), KB_E_NULL);
    CHECK_EQ(kb_exchange_answer(NULL, &answer), KB_E_NULL);
    CHECK_EQ(kb_exchange_reusable(NULL), 0);
    kb_exchange_free(NULL);

    exchange = exchange_of(check);
    CHECK_EQ(kb_exchange_target(exchange, NULL, &number), KB_E_NULL);
    CHECK_EQ(kb_exchange_target(exchange, &s, NULL), KB_E_NULL);
    CHECK_EQ(kb_exchange_request(exchange, NULL), KB_E_NULL);
    CHECK_EQ(kb_exchange_received(exchange, NULL, 0, &number), KB_E_NULL);
    CHECK_EQ(kb_exchange_received(exchange, NULL, 9, &number), KB_E_NULL);
    CHECK_EQ(kb_exchange_received(exchange, (const uint8_t *) "H", 1, NULL), KB_E_NULL);
    CHECK_EQ(kb_exchange_closed(exchange, NULL), KB_E_NULL);
    CHECK(untouched(&s) && untouched(&number) && untouched(&answer));

    /* None of these calls took anything: the answer can still come. It is freed half way. */

    CHECK_EQ(kb_exchange_received(exchange, (const uint8_t *) HEAD, strlen(HEAD), &number), KB_OK);
    CHECK_EQ(number, KB_EXCHANGE_MORE);
    kb_exchange_free(exchange);
    kb_check_free(check);
    kb_engine_free(engine);
}


static void
test_tls(void)
{
    kb_tls      tls;
    kb_engine  *engine, *bare;

    engine = new_engine(CLIENT, "");
    memset(&tls, 0, sizeof(tls));
    tls.struct_size = sizeof(tls);

    CHECK_EQ(kb_engine_tls(engine, 0, &tls), KB_OK);
    CHECK(str_is(tls.name, "gateway") && str_is(tls.certificate, "/etc/gateway.pem"));
    CHECK(str_is(tls.private_key, "-----BEGIN PRIVATE KEY-----\nx") && str_is(tls.trusted, "/etc/ca.pem"));
    CHECK_EQ(tls.verify, 1);

    /* For metadata and keys, without a certificate. */

    CHECK_EQ(kb_engine_tls(engine, 1, &tls), KB_OK);
    CHECK(tls.name.ptr == NULL && tls.certificate.ptr == NULL && tls.private_key.ptr == NULL);
    CHECK(str_is(tls.trusted, "/etc/ca.pem"));
    CHECK_EQ(tls.verify, 1);

    CHECK_EQ(kb_engine_tls(engine, 2, &tls), KB_E_RANGE);
    CHECK_EQ(kb_engine_tls(engine, SIZE_MAX, &tls), KB_E_RANGE);
    CHECK_EQ(kb_engine_tls(NULL, 0, &tls), KB_E_NULL);

    bare = new_engine(DISCOVER, "");
    CHECK_EQ(kb_engine_tls(bare, 0, &tls), KB_OK);
    CHECK(tls.name.ptr == NULL && tls.certificate.ptr == NULL && tls.private_key.ptr == NULL && tls.trusted.ptr == NULL);
    CHECK_EQ(tls.verify, 0);
    CHECK_EQ(kb_engine_tls(bare, 1, &tls), KB_E_RANGE);

    kb_engine_free(bare);
    kb_engine_free(engine);
}


static void
test_shares(void)
{
    kb_engine  *engine;

    engine = new_engine(CLIENT, "");
    CHECK_EQ(kb_engine_shares(engine), 0);
    CHECK_EQ(kb_engine_needs(engine), KB_NEEDS_FETCH);
    kb_engine_free(engine);

    engine = new_engine(DISCOVER, SECRET("a"));
    CHECK_EQ(kb_engine_shares(engine), 1);
    CHECK_EQ(kb_engine_needs(engine), KB_NEEDS_FETCH);
    kb_engine_free(engine);

    CHECK_EQ(kb_engine_shares(NULL), 0);
}


/* The value of the one sample with this text. */

static uint64_t
counted(const kb_engine *engine, const char *sample)
{
    size_t           i, n;
    kb_counter       counter;
    static uint64_t  values[4096];

    memset(&counter, 0, sizeof(counter));
    counter.struct_size = sizeof(counter);
    CHECK_EQ(kb_engine_counters(engine, values, 4096, &n), KB_OK);

    for (i = 0; kb_engine_counter(engine, i, &counter) == KB_OK; i++) {
        CHECK(counter.divisor > 0 && counter.help.len > 0);
        CHECK(str_is(counter.kind, "counter") || str_is(counter.kind, "histogram"));
        CHECK(counter.sample.len > counter.family.len && memcmp(counter.sample.ptr, counter.family.ptr, counter.family.len) == 0);

        if (str_is(counter.sample, sample)) {
            return values[i];
        }
    }

    complain(sample, __FILE__, __LINE__);

    return 0;
}


#define REQUESTS(decision, reason, cache) \
    "keybound_requests_total{issuer=\"" ISSUER "\",decision=\"" decision "\",reason=\"" reason "\",cache=\"" cache "\"}"
#define REFUSED_BY_HOST \
    "keybound_requests_total{issuer=\"\",decision=\"deny\",reason=\"certificate_refused\",cache=\"none\"}"
#define FETCHES(outcome) \
    "keybound_as_requests_total{issuer=\"" ISSUER "\",endpoint=\"introspection\",outcome=\"" outcome "\"}"


static void
test_counters(void)
{
    size_t       n, enough, i;
    uint64_t     values[4];
    kb_facts     facts;
    kb_check    *check;
    kb_answer    answer;
    kb_engine   *engine;
    kb_counter   counter;
    kb_decision  decision;
    kb_response  response;

    engine = new_engine(CLIENT, "");

    /* A check that is not over is not counted. */

    check = begin_opaque(engine);
    kb_check_free(check);
    CHECK_EQ(counted(engine, FETCHES("ok")), 0);

    check = begin_opaque(engine);
    answer = failure_of(KB_FETCH_TIMEOUT);
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    kb_check_free(check);

    check = begin_opaque(engine);
    feed(check, active);
    kb_check_free(check);
    facts = facts_for(str_of(OPAQUE), &der, KB_CERT_DER);
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);

    CHECK_EQ(counted(engine, FETCHES("timeout")), 1);
    CHECK_EQ(counted(engine, FETCHES("ok")), 1);
    CHECK_EQ(counted(engine, REQUESTS("deny", "introspection_unavailable", "miss")), 1);
    CHECK_EQ(counted(engine, REQUESTS("allow", "allowed", "miss")), 1);
    CHECK_EQ(counted(engine, REQUESTS("allow", "allowed", "hit")), 1);
    CHECK_EQ(counted(engine, "keybound_as_request_duration_seconds_bucket{issuer=\"" ISSUER
                             "\",endpoint=\"introspection\",le=\"0.005\"}"), 2);

    /* What the host itself refuses is counted when it asks for the answer. */

    CHECK_EQ(kb_engine_response(engine, KB_REASON_CERTIFICATE_REFUSED, &response), KB_OK);
    CHECK_EQ(counted(engine, REFUSED_BY_HOST), 1);

    /* Too little room, and no arguments. */

    memset(&counter, 0, sizeof(counter));
    counter.struct_size = sizeof(counter);
    fill(&values);
    CHECK_EQ(kb_engine_counters(engine, values, 4, &enough), KB_E_RANGE);
    CHECK(enough > 4);
    CHECK_EQ(kb_engine_counters(engine, NULL, 0, &n), KB_E_RANGE);
    CHECK_EQ(n, enough);
    CHECK_EQ(kb_engine_counters(engine, NULL, enough, &n), KB_E_NULL);
    CHECK_EQ(kb_engine_counters(engine, values, 4, NULL), KB_E_NULL);
    CHECK_EQ(kb_engine_counters(NULL, values, 4, &n), KB_E_NULL);
    CHECK(untouched(&values));

    for (i = 0; kb_engine_counter(engine, i, &counter) == KB_OK; i++) { /* void */ }

    CHECK_EQ(i, enough);
    CHECK_EQ(kb_engine_counter(engine, enough, &counter), KB_E_RANGE);
    CHECK_EQ(kb_engine_counter(engine, SIZE_MAX, &counter), KB_E_RANGE);
    CHECK_EQ(kb_engine_counter(NULL, 0, &counter), KB_E_NULL);

    kb_engine_free(engine);
}


/* Whether a page has this text, whole lines of it, and how often. */

static int
on_page(kb_str page, const char *lines)
{
    int     n;
    size_t  i, len;

    len = strlen(lines);

    for (i = 0, n = 0; i + len <= page.len; i++) {
        n += (i == 0 || page.ptr[i - 1] == '\n') && memcmp(page.ptr + i, lines, len) == 0;
    }

    return n;
}


#define TIMES(sample, labels) \
    "keybound_as_request_duration_seconds_" sample "{issuer=\"" ISSUER "\",endpoint=\"introspection\"" labels "} "


static void
put_on_page(kb_page *page, const kb_engine *engine)
{
    size_t           n;
    static uint64_t  values[4096];

    CHECK_EQ(kb_engine_counters(engine, values, 4096, &n), KB_OK);
    CHECK_EQ(kb_page_add(page, engine, values, n), KB_OK);
}


static void
count(kb_engine *engine, const char *token, uint32_t elapsed_us)
{
    kb_check   *check;
    kb_answer   answer;

    check = begin(engine, str_of(token), &der);
    answer = answer_of(200, JSON, str_of(active));
    answer.elapsed_us = elapsed_us;
    CHECK_EQ(kb_check_fetched(check, NOW, &answer), KB_OK);
    check_ends(check, "allowed", 0, 0, NULL);
}


static void
test_page(void)
{
    size_t           n;
    kb_str           text;
    kb_page         *page;
    kb_engine       *one, *two;
    static uint64_t  values[4096];

    static const char  requests[] =
        "# TYPE keybound_requests counter\n"
        "# HELP keybound_requests Requests by decision and reason.\n";
    static const char  times[] =
        "# TYPE keybound_as_request_duration_seconds histogram\n"
        "# HELP keybound_as_request_duration_seconds How long requests to the authorization server took.\n";

    one = new_engine(CLIENT, "");
    two = new_engine(CLIENT, ",\"realm\":\"two\"");
    CHECK_EQ(kb_page_new(&page), KB_OK);
    CHECK_EQ(kb_page_text(page, &text), KB_OK);
    CHECK(str_is(text, "# EOF\n"));

    /* What never counted is not there, the families are. */

    put_on_page(page, one);
    CHECK_EQ(kb_page_text(page, &text), KB_OK);
    CHECK_EQ(on_page(text, requests), 1);
    CHECK_EQ(on_page(text, times), 1);
    CHECK_EQ(on_page(text, "keybound_"), 0);
    CHECK_EQ(on_page(text, "# EOF\n"), 1);
    kb_page_free(page);

    /* A histogram is there with all its buckets, and in seconds. */

    count(one, "Bearer a", 1500);
    CHECK_EQ(kb_page_new(&page), KB_OK);
    put_on_page(page, one);
    CHECK_EQ(kb_page_text(page, &text), KB_OK);
    CHECK_EQ(on_page(text, REQUESTS("allow", "allowed", "miss") " 1\n"), 1);
    CHECK_EQ(on_page(text, FETCHES("ok") " 1\n"), 1);
    CHECK_EQ(on_page(text, TIMES("bucket", ",le=\"0.005\"") "1\n" TIMES("bucket", ",le=\"0.01\"") "1\n"), 1);
    CHECK_EQ(on_page(text, TIMES("bucket", ",le=\"+Inf\"") "1\n" TIMES("count", "") "1\n"), 1);
    CHECK_EQ(on_page(text, TIMES("count", "") "1\n" TIMES("sum", "") "0.001500\n# EOF\n"), 1);
    CHECK_EQ(on_page(text, "keybound_as_request_duration_seconds_"), 12);

    /* What several engines count is there once, added up. The engines may go before the text is made. */

    count(two, "Bearer a", 6000);
    count(two, "Bearer b", 6000);
    put_on_page(page, two);
    kb_engine_free(two);
    CHECK_EQ(kb_page_text(page, &text), KB_OK);
    CHECK_EQ(on_page(text, requests), 1);
    CHECK_EQ(on_page(text, REQUESTS("allow", "allowed", "miss") " 3\n"), 1);
    CHECK_EQ(on_page(text, TIMES("bucket", ",le=\"0.005\"") "1\n" TIMES("bucket", ",le=\"0.01\"") "3\n"), 1);
    CHECK_EQ(on_page(text, TIMES("count", "") "3\n" TIMES("sum", "") "0.013500\n# EOF\n"), 1);
    CHECK_EQ(on_page(text, "keybound_as_request_duration_seconds_"), 12);

    /* Wrong arguments change nothing. */

    CHECK_EQ(kb_engine_counters(one, values, 4096, &n), KB_OK);
    CHECK_EQ(kb_page_add(page, one, values, n - 1), KB_E_RANGE);
    CHECK_EQ(kb_page_add(page, one, values, n + 1), KB_E_RANGE);
    CHECK_EQ(kb_page_add(page, one, values, 0), KB_E_RANGE);
    CHECK_EQ(kb_page_add(page, one, values, SIZE_MAX), KB_E_RANGE);
    CHECK_EQ(kb_page_add(page, one, NULL, n), KB_E_NULL);
    CHECK_EQ(kb_page_add(page, NULL, values, n), KB_E_NULL);
    CHECK_EQ(kb_page_add(NULL, one, values, n), KB_E_NULL);
    CHECK_EQ(kb_page_text(page, NULL), KB_E_NULL);
    CHECK_EQ(kb_page_new(NULL), KB_E_NULL);
    kb_engine_free(one);

    CHECK_EQ(kb_page_text(page, &text), KB_OK);
    CHECK_EQ(on_page(text, REQUESTS("allow", "allowed", "miss") " 3\n"), 1);
    kb_page_free(page);

    fill(&text);
    CHECK_EQ(kb_page_text(NULL, &text), KB_E_NULL);
    CHECK(untouched(&text));
    kb_page_free(NULL);
}


/* Several processes add to sums that they share, what their own counters grew by. */

static void
test_publish(void)
{
    size_t           n, i;
    kb_engine       *one, *two;
    uint64_t         own[2];
    static uint64_t  sums[4096], values[2][4096], before[4096];

    one = new_engine(CLIENT, "");
    two = new_engine(CLIENT, "");
    CHECK_EQ(kb_engine_counters(one, values[0], 4096, &n), KB_OK);
    memset(sums, 0, sizeof(sums));
    sums[n] = 77;

    count(one, "Bearer a", 1500);
    CHECK_EQ(kb_engine_publish(one, sums, n), KB_OK);
    CHECK_EQ(kb_engine_counters(one, values[0], 4096, &n), KB_OK);
    CHECK(memcmp(sums, values[0], n * sizeof(sums[0])) == 0);

    /* Nothing new, nothing added. Wrong arguments add nothing, and what was not added then comes later. */

    CHECK_EQ(kb_engine_publish(one, sums, n), KB_OK);
    CHECK(memcmp(sums, values[0], n * sizeof(sums[0])) == 0);
    count(one, "Bearer b", 1500);
    count(two, "Bearer c", 1500);
    memcpy(before, sums, sizeof(sums));
    CHECK_EQ(kb_engine_publish(one, sums, n - 1), KB_E_RANGE);
    CHECK_EQ(kb_engine_publish(one, sums, n + 1), KB_E_RANGE);
    CHECK_EQ(kb_engine_publish(one, (uint64_t *) (void *) ((uint8_t *) sums + 4), n), KB_E_ARGUMENT);
    CHECK_EQ(kb_engine_publish(one, NULL, n), KB_E_NULL);
    CHECK_EQ(kb_engine_publish(NULL, sums, n), KB_E_NULL);
    CHECK(memcmp(sums, before, sizeof(sums)) == 0);

    CHECK_EQ(kb_engine_publish(one, sums, n), KB_OK);
    CHECK_EQ(kb_engine_publish(two, sums, n), KB_OK);
    CHECK_EQ(kb_engine_counters(one, values[0], 4096, &n), KB_OK);
    CHECK_EQ(kb_engine_counters(two, values[1], 4096, &n), KB_OK);

    for (i = 0, own[0] = 0, own[1] = 0; i < n; i++) {
        CHECK_EQ(sums[i], values[0][i] + values[1][i]);
        own[0] += values[0][i];
        own[1] += values[1][i];
    }

    CHECK(own[1] > 0 && own[0] == 2 * own[1]);
    CHECK_EQ(sums[n], 77);

    kb_engine_free(one);
    kb_engine_free(two);
}


static void
test_counters_name(void)
{
    size_t      i;
    uint8_t     first[32], name[32];
    kb_engine  *engine;

    /* What counts as something else, or as more, has another name; all else may differ. */

    static const struct {
        const char  *options;
        int          is_same;
    } rows[] = {
        { "", 1 },
        { ",\"realm\":\"api\",\"leeway\":7" SECRET("a"), 1 },
        { ",\"report_only\":true", 0 },
        { ",\"issuers_allowed\":[\"https://other.example\"]", 0 },
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        engine = new_engine(DISCOVER, rows[i].options);
        fill(&name);
        CHECK_EQ(kb_engine_counters_name(engine, &name), KB_OK);

        if (i == 0) {
            memcpy(first, name, sizeof(name));
            CHECK(!untouched(&name));
        }

        CHECK_EQ(memcmp(first, name, sizeof(name)) == 0, rows[i].is_same);
        CHECK_EQ(kb_engine_counters_name(engine, NULL), KB_E_NULL);
        kb_engine_free(engine);
    }

    fill(&name);
    CHECK_EQ(kb_engine_counters_name(NULL, &name), KB_E_NULL);
    CHECK(untouched(&name));
}


/* Claims of every kind, as the text that a header would have. */

static void
test_claim(void)
{
    size_t      i;
    char        body[2048];
    kb_str      value, first, json;
    kb_check   *check;
    kb_engine  *engine;

    static const char  more[] =
        ",\"admin\":true,\"no\":false,\"zero\":0,\"negative\":-7,\"half\":1.5,\"exact\":9007199254740993,"
        "\"inexact\":9007199254740994.0,\"list\":[\"a\",\"b\\n\"],\"address\":{\"country\":\"NL\"},\"nothing\":null,"
        "\"empty\":\"\",\"none\":[],\"name\":\"Zo\\u00eb \\\"Z\\\"\",\"split\":\"a\\r\\nX-User: root\",\"bell\":\"a\\u0007\","
        "\"tab\":\"a\\tb\",\"delete\":\"\\u007f\",\"spaced name\":\"s\",\"\":\"nameless\"}";

    static const struct {
        const char  *name, *value;
    } claims[] = {
        { "sub", "alice" },
        { "admin", "true" },
        { "no", "false" },
        { "zero", "0" },
        { "negative", "-7" },
        { "half", "1.5" },
        { "exact", "9007199254740993" },
        { "list", "[\"a\",\"b\\n\"]" },
        { "address", "{\"country\":\"NL\"}" },
        { "none", "[]" },
        { "name", "Zo\xc3\xab \"Z\"" },
        { "spaced name", "s" },
        { "", "nameless" },
        { "inexact", NULL },
        { "nothing", NULL },
        { "empty", NULL },
        { "split", NULL },
        { "bell", NULL },
        { "tab", NULL },
        { "delete", NULL },
        { "absent", NULL },
        { "Sub", NULL },
        { "su", NULL },
        { "address.country", NULL },
        { "country", NULL },
        { "sub\xff", NULL },
    };

    engine = new_engine(CLIENT, "");
    check = begin_opaque(engine);
    snprintf(body, sizeof(body), "%.*s%s", (int) strlen(active) - 1, active, more);
    feed(check, body);
    check_step(check, KB_STEP_ALLOW);

    for (i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        fill(&value);
        CHECK_EQ(kb_check_claim(check, (const uint8_t *) claims[i].name, strlen(claims[i].name), &value),
                 claims[i].value != NULL ? KB_OK : KB_E_RANGE);

        if (!(claims[i].value != NULL ? str_is(value, claims[i].value) : untouched(&value))) {
            complain(claims[i].name, __FILE__, __LINE__);
        }
    }

    CHECK_EQ(kb_check_claim(check, (const uint8_t *) "sub", SIZE_MAX, &value), KB_E_NULL);
    CHECK_EQ(kb_check_claim(check, NULL, 3, &value), KB_E_NULL);
    CHECK_EQ(kb_check_claim(check, (const uint8_t *) "sub", 3, NULL), KB_E_NULL);
    CHECK_EQ(kb_check_claim(NULL, (const uint8_t *) "sub", 3, &value), KB_E_NULL);

    /* It stays over calls that only read, and the claims as a whole stay over this one. */

    CHECK_EQ(kb_check_claims(check, &json), KB_OK);
    CHECK_EQ(kb_check_claim(check, (const uint8_t *) "sub", 3, &first), KB_OK);
    CHECK_EQ(kb_check_claims(check, &value), KB_OK);
    CHECK(str_is(first, "alice") && str_is(json, body) && value.ptr == json.ptr);

    kb_engine_free(engine);
    CHECK_EQ(kb_check_claim(check, (const uint8_t *) "admin", 5, &value), KB_OK);
    CHECK(str_is(value, "true"));
    kb_check_free(check);
}


/* What the authorization server says of the token, bound to the certificate in `der`. */

static void
write_active(void)
{
    uint8_t  thumbprint[KB_THUMBPRINT_SIZE];

    if (kb_certificate_thumbprint(der.bytes, der.len, KB_CERT_DER, &thumbprint) != KB_OK) {
        exit(3);
    }

    snprintf(active, sizeof(active),
             "{\"active\":true,\"iss\":\"" ISSUER "\",\"aud\":\"https://api.example\",\"sub\":\"alice\",\"exp\":%d,"
             "\"cnf\":{\"x5t#S256\":\"%s\"}}", NOW + 1800, (const char *) thumbprint);
}


/* A request with a proof (RFC 9449): the proof is noted at the end, by who noted it first. */

typedef struct {
    kb_facts  facts;
    kb_http   http;
} proof_t;


static void
set_proof(proof_t *p, const data_t *proof)
{
    p->facts = facts_for(str(&dpop_header), NULL, KB_CERT_NONE);
    memset(&p->http, 0, sizeof(p->http));
    p->http.struct_size = sizeof(p->http);
    p->http.method = str_of("GET");
    p->http.host = str_of("api.example");
    p->http.target = str_of("/data?x=1");
    p->http.scheme = str_of("https");
    p->http.peer = str_of("192.0.2.1");
    p->http.dpop = str(proof);
    p->http.dpop_n = 1;
    p->facts.http = &p->http;
}


/* Begins a request that needs the store: the caller frees the check. */

static kb_check *
begin_proof(const kb_engine *engine, proof_t *p, kb_store *store)
{
    kb_decision  decision;

    decide(engine, &p->facts, &decision);
    CHECK(decision.check != NULL);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    memset(store, 0, sizeof(*store));
    store->struct_size = sizeof(*store);
    CHECK_EQ(kb_check_store(decision.check, store), KB_OK);

    return decision.check;
}


static void
check_bearer(const kb_check *check)
{
    size_t  i, seen;
    kb_str  name, value;

    seen = 0;

    for (i = 0; kb_check_header(check, i, &name, &value) == KB_OK; i++) {
        if (str_is(name, "authorization")) {
            CHECK(value.len == dpop_header.len + 2 && memcmp(value.ptr, "Bearer ", 7) == 0
                  && memcmp(value.ptr + 7, dpop_header.bytes + 5, value.len - 7) == 0);
            seen++;
        }

        if (str_is(name, "dpop")) {
            CHECK(value.ptr == NULL);
            seen++;
        }
    }

    CHECK_EQ(i, 2);
    CHECK_EQ(seen, 2);
}


#define PROOFS \
    "{\"issuer\":\"" ISSUER "\",\"audience_required\":[\"https://api.example\"],\"jwks\":%s,\"proof_of_possession_dpop\":\"strict\"," \
    "\"public_origin\":\"https://api.example\"" SECRET("a")


static void
test_proof(void)
{
    size_t      i;
    uint8_t     key[64], mark[64];
    size_t      key_len, mark_len;
    proof_t     p;
    kb_str      value, detail;
    kb_store    store;
    kb_check   *check, *again;
    kb_engine  *engine;

    static const struct {
        uint32_t     answer;
        uint32_t     step;
        const char  *code;
    } ends[] = {
        { KB_STORED, KB_STEP_ALLOW, "allowed" },
        { KB_STORE_EXISTS, KB_STEP_RESPOND, "proof_replayed" },
        { KB_STORE_ABSENT, KB_STEP_RESPOND, "store_unavailable" },
        { KB_STORE_FAILED, KB_STEP_RESPOND, "store_unavailable" },
    };

    engine = new_engine(PROOFS "}", (const char *) jwks.bytes);
    CHECK_EQ(kb_engine_needs(engine), KB_NEEDS_HTTP | KB_NEEDS_STORE | KB_NEEDS_PROOF);
    CHECK_EQ(kb_engine_shares(engine), 1);

    for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        set_proof(&p, &dpop_proof);
        check = begin_proof(engine, &p, &store);
        CHECK_EQ(store.operation, KB_STORE_ADD);
        CHECK_EQ(store.flags, 0);
        CHECK_EQ(store.delay_ms, 0);
        CHECK_EQ(store.ttl_s, 60 + 5 + 1);
        CHECK_EQ(kb_check_stored(check, NOW, ends[i].answer, str_of(NULL)), KB_OK);
        check_step(check, ends[i].step);
        CHECK(reason_is(kb_check_reason(check), ends[i].code));
        CHECK_EQ(kb_check_stored(check, NOW, KB_STORED, str_of(NULL)), KB_E_STATE);

        if (ends[i].step == KB_STEP_ALLOW) {
            check_bearer(check);
        }

        kb_check_free(check);
    }

    /* Nothing of the facts is kept while the store is asked. Two proofs are two keys. */

    set_proof(&p, &dpop_proof);
    check = begin_proof(engine, &p, &store);
    CHECK(store.key.len <= sizeof(key));
    key_len = store.key.len;
    memcpy(key, store.key.ptr, key_len);
    set_proof(&p, &dpop_2_proof);
    again = begin_proof(engine, &p, &store);
    CHECK(store.key.len == key_len && memcmp(store.key.ptr, key, key_len) != 0);
    memset(&p, 0xa5, sizeof(p));
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORED, str_of(NULL)), KB_OK);
    CHECK_EQ(kb_check_stored(again, NOW, KB_STORED, str_of(NULL)), KB_OK);
    check_step(check, KB_STEP_ALLOW);
    check_step(again, KB_STEP_ALLOW);
    check_bearer(check);
    kb_check_free(again);
    kb_check_free(check);

    /* A request that is decided about again uses its proof again; another one does not. */

    set_proof(&p, &dpop_proof);
    p.http.request = str_of("request 1");
    check = begin_proof(engine, &p, &store);
    mark_len = store.value.len;
    CHECK(mark_len > 0 && mark_len <= sizeof(mark));
    memcpy(mark, store.value.ptr, mark_len);
    kb_check_free(check);

    for (i = 0; i < 2; i++) {
        p.http.request = str_of(i == 0 ? "request 1" : "request 2");
        check = begin_proof(engine, &p, &store);
        CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_EXISTS, str_of(NULL)), KB_OK);
        check_step(check, KB_STEP_STORE);
        CHECK_EQ(kb_check_store(check, &store), KB_OK);
        CHECK_EQ(store.operation, KB_STORE_GET);
        value.ptr = mark;
        value.len = mark_len;
        CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FOUND, value), KB_OK);
        check_step(check, i == 0 ? KB_STEP_ALLOW : KB_STEP_RESPOND);
        CHECK(reason_is(kb_check_reason(check), i == 0 ? "allowed" : "proof_replayed"));
        kb_check_free(check);
    }

    kb_engine_free(engine);

    /* By option a proof is taken that cannot be noted, and the log is told. */

    engine = new_engine(PROOFS ",\"insecure_dpop_replay\":true}", (const char *) jwks.bytes);
    CHECK_EQ(kb_engine_needs(engine), KB_NEEDS_HTTP | KB_NEEDS_PROOF);
    set_proof(&p, &dpop_proof);
    check = begin_proof(engine, &p, &store);
    CHECK_EQ(kb_check_stored(check, NOW, KB_STORE_FAILED, str_of(NULL)), KB_OK);
    check_step(check, KB_STEP_ALLOW);
    CHECK_EQ(kb_check_detail(check, &detail), KB_OK);
    CHECK(str_is(detail, "the proof is not remembered (insecure_dpop_replay)"));
    kb_check_free(check);
    kb_engine_free(engine);

    /* Who gives nonces wants no other ones beside them. */

    engine = new_engine(PROOFS ",\"dpop_use_nonce\":true,\"dpop_nonce_secret\":\"0123456789abcdef0123456789abcdef\"}", (const char *) jwks.bytes);
    CHECK_EQ(kb_engine_needs(engine), KB_NEEDS_HTTP | KB_NEEDS_STORE | KB_NEEDS_PROOF | KB_NEEDS_FILTER);
    kb_engine_free(engine);
}


/* What is refused before its store step asks for none: by who has the token and not the key, for one. */

static void
test_proof_refused(void)
{
    proof_t      p;
    kb_engine   *engine;
    kb_decision  decision;

    engine = new_engine(PROOFS "}", (const char *) jwks.bytes);

    set_proof(&p, &dpop_other_proof);
    decide(engine, &p.facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK(reason_is(decision.reason, "proof_key_mismatch"));
    CHECK_EQ(decision.response.status, 401);
    CHECK(str_is(decision.response.www_authenticate, "DPoP error=\"invalid_token\", algs=\"ES256 PS256 EdDSA\""));
    CHECK(kb_reason_is_binding(decision.reason));
    kb_check_free(decision.check);

    set_proof(&p, &dpop_proof);
    p.facts.flags = KB_FACT_EARLY_DATA;
    decide(engine, &p.facts, &decision);
    CHECK(decision.step == KB_STEP_RESPOND && reason_is(decision.reason, "early_data"));
    CHECK_EQ(decision.response.status, 425);
    kb_check_free(decision.check);

    set_proof(&p, &dpop_proof);
    p.facts.now_s = NOW + 61;
    decide(engine, &p.facts, &decision);
    CHECK(decision.step == KB_STEP_RESPOND && reason_is(decision.reason, "proof_expired"));
    kb_check_free(decision.check);

    kb_engine_free(engine);
}


/* A client without a nonce gets one with its refusal, which is then more than the usual answer (RFC 9449 section 9). */

static void
test_proof_nonce(void)
{
    kb_str        name, value;
    proof_t       p;
    kb_engine    *engine;
    kb_response   response;
    kb_decision   decision;

    engine = new_engine(PROOFS ",\"dpop_use_nonce\":true,\"dpop_nonce_secret\":\"0123456789abcdef0123456789abcdef\"}",
                        (const char *) jwks.bytes);
    set_proof(&p, &dpop_proof);
    decide(engine, &p.facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK(reason_is(decision.reason, "proof_nonce_missing"));
    CHECK(decision.check != NULL);
    CHECK_EQ(kb_check_response(decision.check, &response), KB_OK);
    CHECK_EQ(response.status, 401);
    CHECK(str_is(response.www_authenticate, "DPoP error=\"use_dpop_nonce\", algs=\"ES256 PS256 EdDSA\""));
    CHECK_EQ(kb_check_response_header(decision.check, 0, &name, &value), KB_OK);
    CHECK(str_is(name, "dpop-nonce") && value.len == 54);
    CHECK_EQ(kb_check_response_header(decision.check, 1, &name, &value), KB_OK);
    CHECK(str_is(name, "cache-control") && str_is(value, "no-store"));
    CHECK_EQ(kb_check_response_header(decision.check, 2, &name, &value), KB_E_RANGE);
    kb_check_free(decision.check);
    kb_engine_free(engine);
}


int
main(int argc, char **argv)
{
    if (argc != 2 || check_abi() != 0) {
        return 3;
    }

    directory = argv[1];
    load("allow.header", &header);
    load("client.der", &der);
    load("other.der", &other);
    load("jwks.json", &jwks);
    load("dpop.header", &dpop_header);
    load("dpop.proof", &dpop_proof);
    load("dpop-2.proof", &dpop_2_proof);
    load("dpop-other.proof", &dpop_other_proof);
    write_active();

    run_test("an opaque token is introspected: URL, headers, form, limits", test_introspection_request);
    run_test("the same token is the same flight, each check judges by its own certificate", test_flights);
    run_test("an active token is allowed with its certificate, and remembered", test_introspection_active);
    run_test("an inactive token is refused, and that is remembered", test_introspection_inactive);
    run_test("a failed introspection is 503 and never an allow", test_introspection_failures);
    run_test("a server that says Retry-After is left alone", test_retry_after);
    run_test("metadata, keys, allow", test_discovery);
    run_test("failed metadata and keys are 503", test_discovery_failures);
    run_test("report_only after steps", test_report_only);
    run_test("what one engine stores another with the same secret reads, and nobody else", test_store);
    run_test("a store that fails costs a fetch, and no decision", test_store_fails);
    run_test("metadata and keys are fetched once for all who share", test_shared_discovery);
    run_test("an answer to another step changes nothing", test_wrong_step);
    run_test("kb_check_fetched: wrong arguments", test_fetched_arguments);
    run_test("kb_check_stored: wrong arguments", test_stored_arguments);
    run_test("structs that are too small, and of a later header", test_struct_sizes);
    run_test("checks freed half way, after their engine", test_freed_half_way);
    run_test("answers are borrowed", test_answers_are_borrowed);
    run_test("an exchange, byte by byte", test_exchange);
    run_test("how exchanges end, and when the connection is good for more", test_exchange_ends);
    run_test("an exchange's limit", test_exchange_limit);
    run_test("exchanges: wrong arguments, freed half way", test_exchange_arguments);
    run_test("how to connect: kb_engine_tls", test_tls);
    run_test("what steps there can be: kb_engine_shares, kb_engine_needs", test_shares);
    run_test("counters", test_counters);
    run_test("kb_engine_publish: sums that processes share", test_publish);
    run_test("kb_engine_counters_name: the same for the same counters", test_counters_name);
    run_test("a page of what engines counted", test_page);
    run_test("a proof: noted once, by one request", test_proof);
    run_test("a proof that is refused asks for no store", test_proof_refused);
    run_test("a nonce comes with the refusal", test_proof_nonce);
    run_test("claims of every kind as text, and none that would split a header", test_claim);

    return tests_failed ? 1 : 0;
}
