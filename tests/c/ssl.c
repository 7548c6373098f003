/*
 * kb_facts.ssl with real handshakes in memory: no sockets. What is remembered in a connection must always be that of its
 * certificate, must cost nothing twice, and must go with the connection.
 */

#include <openssl/ssl.h>

#include "mint.h"
#include "test.h"


typedef struct {
    EVP_PKEY  *key;
    X509      *cert;
} identity_t;

typedef struct {
    SSL       *server, *client;
} connection_t;

enum {
    FULL = 0,
    EARLY_DATA = 1,
    ON_DEMAND = 2,      /* the server asks for a certificate later (TLS 1.3) */
};


static int          i2d_calls, version;
static char         authorization[7 + MINT_TOKEN_SIZE], bare[MINT_JSON_SIZE], validity[MINT_JSON_SIZE], off[MINT_JSON_SIZE];
static EVP_PKEY    *issuer;
static kb_engine   *engine;
static identity_t   own, other, server_identity;
static const char   early[] = "GET / HTTP/1.1\r\n\r\n";


/* The library finds this one: each reading of a certificate is counted. */

int
i2d_X509(const X509 *cert, unsigned char **out)
{
    i2d_calls++;
    return ASN1_item_i2d((const ASN1_VALUE *) cert, out, ASN1_ITEM_rptr(X509));
}


static identity_t
make_identity(const char *name)
{
    identity_t  identity;

    identity.key = mint_key();
    identity.cert = mint_certificate(identity.key, name, 0);

    return identity;
}


static void
free_identity(identity_t identity)
{
    EVP_PKEY_free(identity.key);
    X509_free(identity.cert);
}


static kb_engine *
make_engine(const char *config)
{
    kb_engine  *made;

    MUST(kb_engine_new((const uint8_t *) config, strlen(config), &made, NULL, 0, NULL) == KB_OK);

    return made;
}


/* A certificate of exactly that many bytes: Ed25519 signatures all have one length. */

static identity_t
make_sized_identity(size_t size)
{
    size_t      padding;
    uint8_t     der[MINT_DER_SIZE];
    identity_t  identity;

    identity.key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    MUST(identity.key != NULL);

    identity.cert = mint_certificate(identity.key, "large", 16000);
    padding = 16000 + size - mint_der(identity.cert, der);
    X509_free(identity.cert);

    identity.cert = mint_certificate(identity.key, "large", padding);
    MUST(mint_der(identity.cert, der) == size);

    return identity;
}


/* Any certificate will do, as with `ssl_verify_client optional_no_ca`. */

static int
accept_any(int ok, X509_STORE_CTX *store)
{
    (void) ok;
    (void) store;

    return 1;
}


static SSL_CTX *
make_context(const SSL_METHOD *method, const identity_t *identity)
{
    SSL_CTX  *ctx;

    ctx = SSL_CTX_new(method);
    MUST(ctx != NULL);
    MUST(SSL_CTX_set_min_proto_version(ctx, version) && SSL_CTX_set_max_proto_version(ctx, version));

    if (identity != NULL) {
        MUST(SSL_CTX_use_certificate(ctx, identity->cert) && SSL_CTX_use_PrivateKey(ctx, identity->key));
    }

    return ctx;
}


static SSL_CTX *
make_server_context(int mode)
{
    SSL_CTX  *ctx;

    ctx = make_context(TLS_server_method(), &server_identity);
    MUST(SSL_CTX_set_session_id_context(ctx, (const unsigned char *) "keybound", 8));

    if (mode != ON_DEMAND) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, accept_any);
    }

    if (mode == EARLY_DATA) {
        MUST(SSL_CTX_set_max_early_data(ctx, 1024));
    }

    return ctx;
}


static void
join(SSL *server, SSL *client)
{
    BIO  *a, *b;

    /* Room for two session tickets, each with a certificate of 16 KiB in it. */

    MUST(BIO_new_bio_pair(&a, 1 << 17, &b, 1 << 17));
    SSL_set_bio(server, a, a);
    SSL_set_bio(client, b, b);
}


static void
shake_hands(SSL *server, SSL *client)
{
    int   i, done, n;
    char  c;

    for (i = 0, done = 0; i < 100 && done != 3; i++) {
        done |= SSL_do_handshake(client) == 1 ? 1 : 0;
        done |= SSL_do_handshake(server) == 1 ? 2 : 0;
    }

    if (done != 3) {
        ERR_print_errors_fp(stderr);
    }

    MUST(done == 3);
    MUST(SSL_is_init_finished(server) && SSL_is_init_finished(client));

    /* The client takes its session tickets. */

    n = SSL_read(client, &c, 1);
    MUST(n <= 0 && SSL_get_error(client, n) == SSL_ERROR_WANT_READ);
    ERR_clear_error();
}


/* Connects a client that may have a certificate, and may resume a session. */

static connection_t
begin(SSL_CTX *server_ctx, const identity_t *identity, SSL_SESSION *session)
{
    SSL_CTX       *client_ctx;
    connection_t   c;

    client_ctx = make_context(TLS_client_method(), identity);
    c.server = SSL_new(server_ctx);
    c.client = SSL_new(client_ctx);
    MUST(c.server != NULL && c.client != NULL);
    SSL_CTX_free(client_ctx);

    SSL_set_accept_state(c.server);
    SSL_set_connect_state(c.client);
    MUST(session == NULL || SSL_set_session(c.client, session));
    join(c.server, c.client);

    return c;
}


static connection_t
connect_with(const identity_t *identity)
{
    SSL_CTX       *ctx;
    connection_t   c;

    ctx = make_server_context(FULL);
    c = begin(ctx, identity, NULL);
    SSL_CTX_free(ctx);
    shake_hands(c.server, c.client);
    MUST(SSL_version(c.server) == version && !SSL_session_reused(c.server));

    return c;
}


static void
end(connection_t c)
{
    SSL_free(c.server);
    SSL_free(c.client);
}


static void
decide_(const kb_engine *e, SSL *ssl, const char *header, int64_t now_s, const char *code)
{
    kb_facts     facts;
    kb_decision  decision;

    memset(&facts, 0, sizeof(facts));
    facts.struct_size = sizeof(facts);
    facts.now_s = now_s;
    facts.authorization = str_of(header);
    facts.authorization_n = header != NULL;
    facts.ssl = ssl;

    fill(&decision);
    decision.struct_size = sizeof(decision);
    decision.step = KB_STEP_ALLOW;

    CHECK_EQ(kb_engine_decide(e, &facts, &decision), KB_OK);
    CHECK_EQ(decision.step, strcmp(code, "allowed") == 0 ? KB_STEP_ALLOW : KB_STEP_RESPOND);
    CHECK(kb_reason_code(decision.reason) != NULL);

    if (kb_reason_code(decision.reason) != NULL && strcmp(kb_reason_code(decision.reason), code) != 0) {
        complain(kb_reason_code(decision.reason), __FILE__, __LINE__);
    }

    if (strcmp(code, "early_data") == 0) {
        CHECK_EQ(decision.response.status, 425);
    }
}


/* Decides, and checks how often the certificate was read: 2 calls of i2d_X509 where it was not remembered. */

static void
decide_reads_(const kb_engine *e, SSL *ssl, const char *code, int calls)
{
    i2d_calls = 0;
    decide_(e, ssl, authorization, MINT_NOW, code);
    CHECK_EQ(i2d_calls, calls);
}


#define decide(...)        FROM_HERE(decide_(__VA_ARGS__))
#define decide_reads(...)  FROM_HERE(decide_reads_(__VA_ARGS__))


static void
test_bound(void)
{
    connection_t  c;

    c = connect_with(&own);
    decide_reads(engine, c.server, "allowed", 2);
    decide_reads(engine, c.server, "allowed", 0);
    decide_reads(engine, c.server, "allowed", 0);
    end(c);
}


static void
test_mismatch(void)
{
    connection_t  c;

    c = connect_with(&other);
    decide_reads(engine, c.server, "certificate_mismatch", 2);
    decide_reads(engine, c.server, "certificate_mismatch", 0);
    end(c);
}


static void
test_missing(void)
{
    connection_t  c;

    c = connect_with(NULL);
    decide_reads(engine, c.server, "certificate_missing", 0);
    decide_reads(engine, c.server, "certificate_missing", 0);
    end(c);
}


/* What x5t#S256 would be (RFC 8705 section 3.1). Of this and of decisions, only the first reads the certificate. */

static void
test_thumbprint(void)
{
    char           expected[45];
    uint8_t        out[KB_THUMBPRINT_SIZE];
    SSL_CTX       *ctx;
    identity_t     large;
    connection_t   c;

    fill(&out);
    CHECK_EQ(kb_ssl_thumbprint(NULL, &out), KB_E_NULL);

    c = connect_with(NULL);
    CHECK_EQ(kb_ssl_thumbprint(c.server, &out), KB_E_RANGE);
    end(c);

    large = make_sized_identity(16385);
    c = connect_with(&large);
    CHECK_EQ(kb_ssl_thumbprint(c.server, &out), KB_E_CERTIFICATE);
    end(c);
    free_identity(large);

    /* Before the handshake is complete no key is proved. */

    ctx = make_server_context(FULL);
    c = begin(ctx, &own, NULL);
    CHECK_EQ(kb_ssl_thumbprint(c.server, &out), KB_E_STATE);
    CHECK(untouched(&out));
    shake_hands(c.server, c.client);

    mint_thumbprint(expected, own.cert);
    i2d_calls = 0;
    CHECK_EQ(kb_ssl_thumbprint(c.server, NULL), KB_E_NULL);
    CHECK_EQ(kb_ssl_thumbprint(c.server, &out), KB_OK);
    CHECK(memcmp(out, expected, KB_THUMBPRINT_SIZE) == 0);
    CHECK_EQ(i2d_calls, 2);
    decide_reads(engine, c.server, "allowed", 0);
    end(c);
    SSL_CTX_free(ctx);

    mint_thumbprint(expected, other.cert);
    c = connect_with(&other);
    decide_reads(engine, c.server, "certificate_mismatch", 2);
    CHECK_EQ(kb_ssl_thumbprint(c.server, &out), KB_OK);
    CHECK(memcmp(out, expected, KB_THUMBPRINT_SIZE) == 0);
    CHECK_EQ(i2d_calls, 2);
    end(c);
}


static void
test_two_engines(void)
{
    kb_engine     *second;
    connection_t   c;

    second = make_engine(bare);
    c = connect_with(&own);
    decide_reads(engine, c.server, "allowed", 2);
    decide_reads(second, c.server, "allowed", 0);
    kb_engine_free(second);

    decide_reads(engine, c.server, "allowed", 0);
    end(c);
}


/* What an engine left in a connection does not need the engine. */

static void
test_engine_freed_first(void)
{
    kb_engine     *second;
    connection_t   c;

    second = make_engine(bare);
    c = connect_with(&own);
    decide_reads(second, c.server, "allowed", 2);
    kb_engine_free(second);
    end(c);
}


/* Dates are checked from what is remembered: nginx keeps connections for hours. */

static void
test_validity(void)
{
    kb_engine     *dates;
    connection_t   c;

    dates = make_engine(validity);
    c = connect_with(&own);
    decide(engine, c.server, authorization, MINT_NOW, "allowed");
    decide(dates, c.server, authorization, MINT_NOW, "allowed");
    decide(dates, c.server, authorization, MINT_NOW + MINT_HOUR, "allowed");
    decide(dates, c.server, authorization, MINT_NOW + MINT_HOUR + 1, "certificate_expired");
    decide(engine, c.server, authorization, MINT_NOW + MINT_HOUR + 1, "allowed");
    end(c);
    kb_engine_free(dates);
}


/* On a resumed connection the certificate is that of the session. */

static void
test_resumption(void)
{
    SSL_CTX       *ctx;
    SSL_SESSION   *session;
    connection_t   first, second;

    ctx = make_server_context(FULL);
    first = begin(ctx, &own, NULL);
    shake_hands(first.server, first.client);
    session = SSL_get1_session(first.client);

    second = begin(ctx, NULL, session);
    shake_hands(second.server, second.client);
    MUST(SSL_session_reused(second.server));

    decide_reads(engine, second.server, "allowed", 2);
    decide_reads(engine, first.server, "allowed", 2);
    end(first);
    decide_reads(engine, second.server, "allowed", 0);
    end(second);

    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
}


/* Before the handshake is complete no key is proved. */

static void
test_in_handshake(void)
{
    SSL_CTX       *ctx;
    connection_t   c;

    ctx = make_server_context(FULL);
    c = begin(ctx, &own, NULL);
    decide(engine, c.server, authorization, MINT_NOW, "early_data");
    MUST(SSL_do_handshake(c.client) != 1 && SSL_do_handshake(c.server) != 1);
    decide(engine, c.server, authorization, MINT_NOW, "early_data");
    ERR_clear_error();

    shake_hands(c.server, c.client);
    decide_reads(engine, c.server, "allowed", 2);
    end(c);
    SSL_CTX_free(ctx);
}


static void
test_early_data(void)
{
    int            rc, i;
    char           got[64];
    size_t         n;
    uint8_t        out[KB_THUMBPRINT_SIZE];
    SSL_CTX       *ctx;
    SSL_SESSION   *session;
    connection_t   first, second;

    if (version != TLS1_3_VERSION) {
        return;
    }

    ctx = make_server_context(EARLY_DATA);
    first = begin(ctx, &own, NULL);
    shake_hands(first.server, first.client);
    session = SSL_get1_session(first.client);

    second = begin(ctx, &own, session);
    MUST(SSL_write_early_data(second.client, early, sizeof(early), &n) && n == sizeof(early));
    rc = SSL_read_early_data(second.server, got, sizeof(got), &n);
    MUST(rc == SSL_READ_EARLY_DATA_SUCCESS && n == sizeof(early));

    /* The session's certificate is there already. */

    MUST(SSL_get0_peer_certificate(second.server) != NULL);
    decide(engine, second.server, authorization, MINT_NOW, "early_data");
    fill(&out);
    CHECK_EQ(kb_ssl_thumbprint(second.server, &out), KB_E_STATE);
    CHECK(untouched(&out));

    for (i = 0; i < 10 && rc != SSL_READ_EARLY_DATA_FINISH; i++) {
        (void) SSL_do_handshake(second.client);
        rc = SSL_read_early_data(second.server, got, sizeof(got), &n);
    }

    MUST(rc == SSL_READ_EARLY_DATA_FINISH);
    ERR_clear_error();
    shake_hands(second.server, second.client);
    decide(engine, second.server, authorization, MINT_NOW, "allowed");
    CHECK_EQ(kb_ssl_thumbprint(second.server, &out), KB_OK);
    end(first);
    end(second);

    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
}


/* A certificate that comes after the first request counts for the next. */

static void
test_certificate_on_demand(void)
{
    int            i, n;
    char           c1;
    SSL_CTX       *ctx;
    connection_t   c;

    if (version != TLS1_3_VERSION) {
        return;
    }

    ctx = make_server_context(ON_DEMAND);
    c = begin(ctx, &own, NULL);
    SSL_set_post_handshake_auth(c.client, 1);
    shake_hands(c.server, c.client);
    decide_reads(engine, c.server, "certificate_missing", 0);

    SSL_set_verify(c.server, SSL_VERIFY_PEER, accept_any);
    MUST(SSL_verify_client_post_handshake(c.server) == 1);

    for (i = 0; i < 4 && SSL_get0_peer_certificate(c.server) == NULL; i++) {
        (void) SSL_do_handshake(c.server);
        n = SSL_read(c.client, &c1, 1);
        MUST(n <= 0);
        n = SSL_read(c.server, &c1, 1);
        MUST(n <= 0);
    }

    ERR_clear_error();
    MUST(SSL_get0_peer_certificate(c.server) != NULL);
    decide_reads(engine, c.server, "allowed", 2);
    decide_reads(engine, c.server, "allowed", 0);
    end(c);
    SSL_CTX_free(ctx);
}


/* An SSL that is used again remembers nothing of the connection before. */

static void
test_reuse(void)
{
    connection_t  c, d;

    c = connect_with(&own);
    decide_reads(engine, c.server, "allowed", 2);

    d = connect_with(&other);
    MUST(SSL_clear(c.server) && SSL_clear(d.client));
    join(c.server, d.client);
    shake_hands(c.server, d.client);
    decide_reads(engine, c.server, "certificate_mismatch", 2);
    decide_reads(engine, c.server, "certificate_mismatch", 0);

    SSL_free(d.client);
    d.client = SSL_new(SSL_get_SSL_CTX(c.client));
    MUST(d.client != NULL && SSL_clear(c.server));
    SSL_set_connect_state(d.client);
    join(c.server, d.client);
    shake_hands(c.server, d.client);
    decide_reads(engine, c.server, "allowed", 2);

    end(c);
    end(d);
}


/* Only an SSL before its handshake is really copied; with a session it has a certificate then. */

static void
test_dup(void)
{
    int            original_first;
    SSL           *ssl, *copy;
    SSL_CTX       *ctx;
    SSL_SESSION   *session;
    connection_t   c;

    c = connect_with(&own);
    decide_reads(engine, c.server, "allowed", 2);
    copy = SSL_dup(c.server);
    MUST(copy != NULL);
    decide_reads(engine, copy, "allowed", 0);
    SSL_free(copy);
    decide_reads(engine, c.server, "allowed", 0);
    end(c);

    ctx = make_server_context(FULL);
    c = begin(ctx, &own, NULL);
    shake_hands(c.server, c.client);
    session = SSL_get1_session(c.server);
    end(c);

    for (original_first = 0; original_first < 2; original_first++) {
        ssl = SSL_new(ctx);
        MUST(ssl != NULL && SSL_set_session(ssl, session) && SSL_get0_peer_certificate(ssl) != NULL);
        decide_reads(engine, ssl, "early_data", 2);
        decide_reads(engine, ssl, "early_data", 0);

        copy = SSL_dup(ssl);
        MUST(copy != NULL && copy != ssl);
        decide_reads(engine, copy, "early_data", 2);
        decide_reads(engine, copy, "early_data", 0);

        SSL_free(original_first ? ssl : copy);
        decide_reads(engine, original_first ? copy : ssl, "early_data", 0);
        SSL_free(original_first ? copy : ssl);
    }

    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
}


static void
bound_header(char *out, const identity_t *identity)
{
    char  thumbprint[45];

    mint_thumbprint(thumbprint, identity->cert);
    strcpy(out, "Bearer ");
    mint_token(out + 7, issuer, thumbprint, MINT_NOW + 2 * MINT_HOUR);
}


static void
test_large(void)
{
    char           header[7 + MINT_TOKEN_SIZE];
    size_t         size;
    identity_t     large;
    connection_t   c;

    for (size = 16384; size <= 16385; size++) {
        large = make_sized_identity(size);
        bound_header(header, &large);
        c = connect_with(&large);
        decide(engine, c.server, header, MINT_NOW, size == 16384 ? "allowed" : "certificate_malformed");
        decide(engine, c.server, header, MINT_NOW, size == 16384 ? "allowed" : "certificate_malformed");
        end(c);
        free_identity(large);
    }
}


/* One answer for one request: `ssl` decides as the same certificate in bytes does. */

static void
check_as_bytes_(const kb_engine *e, SSL *ssl, const kb_facts *by_bytes)
{
    kb_facts     by_ssl;
    kb_decision  expected, decision;

    fill(&expected);
    fill(&decision);
    expected.struct_size = sizeof(expected);
    decision.struct_size = sizeof(decision);

    memset(&by_ssl, 0, sizeof(by_ssl));
    by_ssl.struct_size = sizeof(by_ssl);
    by_ssl.now_s = by_bytes->now_s;
    by_ssl.authorization = by_bytes->authorization;
    by_ssl.authorization_n = by_bytes->authorization_n;
    by_ssl.flags = by_bytes->flags;
    by_ssl.ssl = ssl;

    CHECK_EQ(kb_engine_decide(e, by_bytes, &expected), KB_OK);
    CHECK_EQ(kb_engine_decide(e, &by_ssl, &decision), KB_OK);
    CHECK_EQ(decision.step, expected.step);
    CHECK_EQ(decision.reason, expected.reason);
    kb_check_free(expected.check);
    kb_check_free(decision.check);
}


#define check_as_bytes(...)  FROM_HERE(check_as_bytes_(__VA_ARGS__))


static void
test_as_bytes_with(const identity_t *identity)
{
    size_t         i, k;
    uint8_t        der[MINT_DER_SIZE];
    kb_facts       facts;
    kb_engine     *engines[3];
    connection_t   c;
    const char    *headers[3] = { NULL, "Bearer x", NULL };

    headers[2] = authorization;
    engines[0] = make_engine(bare);
    engines[1] = make_engine(validity);
    engines[2] = make_engine(off);
    c = connect_with(identity);

    memset(&facts, 0, sizeof(facts));
    facts.struct_size = sizeof(facts);
    facts.now_s = MINT_NOW;

    if (identity != NULL) {
        facts.client_cert.len = mint_der(identity->cert, der);
        facts.client_cert.ptr = der;
        facts.client_cert_form = KB_CERT_DER;
    }

    for (i = 0; i < 3; i++) {
        for (k = 0; k < 3; k++) {
            facts.authorization = str_of(headers[k]);
            facts.authorization_n = headers[k] != NULL;

            facts.flags = 0;
            check_as_bytes(engines[i], c.server, &facts);
            facts.flags = KB_WANT_CLAIMS;
            check_as_bytes(engines[i], c.server, &facts);
            facts.flags = KB_FACT_EARLY_DATA;
            check_as_bytes(engines[i], c.server, &facts);
        }

        kb_engine_free(engines[i]);
    }

    end(c);
}


static void
test_as_bytes(void)
{
    test_as_bytes_with(NULL);
    test_as_bytes_with(&own);
    test_as_bytes_with(&other);
}


static void
test_large_as_bytes(void)
{
    identity_t  large;

    large = make_sized_identity(16385);
    test_as_bytes_with(&large);
    free_identity(large);
}


static void
test_certificate_beside_ssl(void)
{
    uint8_t        der[MINT_DER_SIZE];
    kb_facts       facts;
    kb_decision    decision;
    connection_t   c;

    c = connect_with(&own);
    memset(&facts, 0, sizeof(facts));
    facts.struct_size = sizeof(facts);
    facts.now_s = MINT_NOW;
    facts.authorization = str_of(authorization);
    facts.authorization_n = 1;
    facts.ssl = c.server;
    facts.client_cert.len = mint_der(own.cert, der);
    facts.client_cert.ptr = der;
    facts.client_cert_form = KB_CERT_DER;

    decision.struct_size = sizeof(decision);
    decision.step = KB_STEP_ALLOW;
    CHECK_EQ(kb_engine_decide(engine, &facts, &decision), KB_E_ARGUMENT);
    CHECK_EQ(decision.step, KB_STEP_INVALID);
    end(c);
}


/* Of a resumed session, and of a certificate that is there, it does not matter what the connection would ask now. */

static void
test_asks_certificate(void)
{
    SSL_CTX       *ctx;
    SSL_SESSION   *session;
    connection_t   c, resumed;

    CHECK_EQ(kb_ssl_asks_certificate(NULL), KB_E_NULL);

    c = connect_with(NULL);
    CHECK_EQ(kb_ssl_asks_certificate(c.server), 1);
    end(c);

    c = connect_with(&own);
    CHECK_EQ(kb_ssl_asks_certificate(c.server), 1);
    SSL_set_verify(c.server, SSL_VERIFY_NONE, NULL);
    CHECK_EQ(kb_ssl_asks_certificate(c.server), 1);
    end(c);

    ctx = make_server_context(ON_DEMAND);
    c = begin(ctx, &own, NULL);
    CHECK_EQ(kb_ssl_asks_certificate(c.server), 0);
    shake_hands(c.server, c.client);
    CHECK_EQ(kb_ssl_asks_certificate(c.server), 0);
    session = SSL_get1_session(c.client);

    resumed = begin(ctx, &own, session);
    CHECK_EQ(kb_ssl_asks_certificate(resumed.server), 0);
    shake_hands(resumed.server, resumed.client);
    MUST(SSL_session_reused(resumed.server));
    CHECK_EQ(kb_ssl_asks_certificate(resumed.server), 1);

    /* What nginx's ssl_certificate_by_lua does: it asks on one connection. */

    SSL_set_verify(c.server, SSL_VERIFY_PEER, accept_any);
    CHECK_EQ(kb_ssl_asks_certificate(c.server), 1);

    end(c);
    end(resumed);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
}


static void
test_supported(void)
{
    CHECK_EQ(kb_ssl_supported(), 1);
}


static void
run_with(const char *tls, const char *name, void (*test)(void))
{
    char  whole[128];

    snprintf(whole, sizeof(whole), "%s: %s", tls, name);
    run_test(whole, test);
}


int
main(void)
{
    int          i;
    const char  *tls;

    issuer = mint_key();
    own = make_identity("client");
    other = make_identity("client");
    server_identity = make_identity("server");

    bound_header(authorization, &own);
    mint_config(bare, issuer, "");
    mint_config(validity, issuer, ",\"client_certificate_validity\":true");
    mint_config(off, issuer, ",\"proof_of_possession_mtls\":\"off\"");
    engine = make_engine(bare);

    run_test("kb_ssl_supported", test_supported);

    for (i = 0; i < 2; i++) {
        version = i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        tls = i == 0 ? "TLS 1.2" : "TLS 1.3";

        run_with(tls, "the bound certificate, then remembered", test_bound);
        run_with(tls, "another certificate", test_mismatch);
        run_with(tls, "no certificate", test_missing);
        run_with(tls, "kb_ssl_thumbprint", test_thumbprint);
        run_with(tls, "two engines, one connection", test_two_engines);
        run_with(tls, "an engine freed before the connection", test_engine_freed_first);
        run_with(tls, "dates on a kept connection", test_validity);
        run_with(tls, "a resumed session", test_resumption);
        run_with(tls, "in the handshake", test_in_handshake);
        run_with(tls, "a connection object used again", test_reuse);
        run_with(tls, "SSL_dup", test_dup);
        run_with(tls, "kb_ssl_asks_certificate", test_asks_certificate);
        run_with(tls, "certificates of 16 KiB and of one byte more", test_large);
        run_with(tls, "a certificate beside the connection", test_certificate_beside_ssl);
        run_with(tls, "the same decisions as from bytes", test_as_bytes);
        run_with(tls, "the same decisions as from bytes, of a certificate too large", test_large_as_bytes);
    }

    run_with(tls, "early data", test_early_data);
    run_with(tls, "a certificate on demand", test_certificate_on_demand);

    kb_engine_free(engine);
    free_identity(own);
    free_identity(other);
    free_identity(server_identity);
    EVP_PKEY_free(issuer);

    return tests_failed ? 1 : 0;
}
