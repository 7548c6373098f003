/*
 * kb_tls_verify with real handshakes in memory: no sockets. The certificates are those of nginx-test/pki.sh, and some that are
 * made here: an intermediate CA, IPv6, names of other kinds.
 *
 *     tls DIRECTORY       with the certificates
 */

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "mint.h"
#include "test.h"


typedef struct {
    EVP_PKEY         *key;
    X509             *cert, *issuer;       /* of the issuer if it is sent too */
} server_t;


static const char    *directory;
static char           told[512];
static kb_trust      *ca, *other_ca;
static int            version = TLS1_3_VERSION;


static void
path_of(char *path, size_t size, const char *name, const char *extension)
{
    snprintf(path, size, "%s/%s.%s", directory, name, extension);
}


static size_t
read_pem(const char *name, uint8_t *out, size_t size)
{
    char     path[4096];
    FILE    *file;
    size_t   n;

    path_of(path, sizeof(path), name, "crt");
    file = fopen(path, "rb");
    MUST(file != NULL);
    n = fread(out, 1, size, file);
    MUST(n < size);
    fclose(file);

    return n;
}


static server_t
load(const char *name)
{
    BIO       *bio;
    char       path[4096];
    server_t   server;

    path_of(path, sizeof(path), name, "crt");
    bio = BIO_new_file(path, "r");
    MUST(bio != NULL);
    server.cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);

    path_of(path, sizeof(path), name, "key");
    bio = BIO_new_file(path, "r");
    MUST(bio != NULL);
    server.key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);

    server.issuer = NULL;
    MUST(server.cert != NULL && server.key != NULL);

    return server;
}


static void
unload(server_t server)
{
    EVP_PKEY_free(server.key);
    X509_free(server.cert);
    X509_free(server.issuer);
}


static void
extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION  *extension;

    extension = X509V3_EXT_nconf_nid(NULL, NULL, nid, value);
    MUST(extension != NULL && X509_add_ext(cert, extension, -1));
    X509_EXTENSION_free(extension);
}


/* A certificate with the given names and purpose; by itself if there is no issuer. */

static server_t
issue(const char *cn, const char *names, const char *purpose, int is_ca, const server_t *issuer)
{
    server_t    new;
    X509_NAME  *name;

    new.key = mint_key();
    new.cert = X509_new();
    new.issuer = NULL;
    MUST(new.cert != NULL && X509_set_version(new.cert, 2));
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(new.cert), 1));
    MUST(X509_gmtime_adj(X509_getm_notBefore(new.cert), -60) && X509_gmtime_adj(X509_getm_notAfter(new.cert), 3600));

    name = X509_get_subject_name(new.cert);
    MUST(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *) cn, -1, -1, 0));
    MUST(X509_set_issuer_name(new.cert, issuer ? X509_get_subject_name(issuer->cert) : name));
    MUST(X509_set_pubkey(new.cert, new.key));

    extend(new.cert, NID_basic_constraints, is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");

    if (names != NULL) {
        extend(new.cert, NID_subject_alt_name, names);
    }

    if (purpose != NULL) {
        extend(new.cert, NID_ext_key_usage, purpose);
    }

    MUST(X509_sign(new.cert, issuer ? issuer->key : new.key, EVP_sha256()));

    return new;
}


static size_t
pem_of(X509 *cert, uint8_t *out, size_t size)
{
    BIO   *bio;
    int    n;

    bio = BIO_new(BIO_s_mem());
    MUST(bio != NULL && PEM_write_bio_X509(bio, cert));
    n = BIO_read(bio, out, (int) size);
    MUST(n > 0);
    BIO_free(bio);

    return (size_t) n;
}


/* The session that a client has after a handshake with this server. */

static SSL_SESSION *
shake_hands(const server_t *server)
{
    int           i, done;
    BIO          *a, *b;
    SSL          *s, *c;
    SSL_CTX      *server_ctx, *client_ctx;
    SSL_SESSION  *session;

    server_ctx = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    MUST(server_ctx != NULL && client_ctx != NULL);
    MUST(SSL_CTX_use_certificate(server_ctx, server->cert) && SSL_CTX_use_PrivateKey(server_ctx, server->key));

    if (server->issuer != NULL) {
        MUST(SSL_CTX_add1_chain_cert(server_ctx, server->issuer));
    }

    for (i = 0; i < 2; i++) {
        SSL_CTX  *ctx = i ? client_ctx : server_ctx;

        MUST(SSL_CTX_set_min_proto_version(ctx, version) && SSL_CTX_set_max_proto_version(ctx, version));

        /* TLS 1.1 signs with SHA-1. */

        if (version < TLS1_2_VERSION) {
            MUST(SSL_CTX_set_cipher_list(ctx, "DEFAULT@SECLEVEL=0"));
        }
    }

    s = SSL_new(server_ctx);
    c = SSL_new(client_ctx);
    MUST(s != NULL && c != NULL && BIO_new_bio_pair(&a, 1 << 17, &b, 1 << 17));
    SSL_set_bio(s, a, a);
    SSL_set_bio(c, b, b);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);

    for (i = 0, done = 0; i < 100 && done != 3; i++) {
        done |= SSL_do_handshake(c) == 1 ? 1 : 0;
        done |= SSL_do_handshake(s) == 1 ? 2 : 0;
    }

    MUST(done == 3);

    /* As lua-nginx-module takes it: before any ticket of TLS 1.3 is read. The connection ends first. */

    session = SSL_get1_session(c);
    MUST(session != NULL);
    SSL_free(c);
    SSL_free(s);
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
    ERR_clear_error();

    return session;
}


static int
verify(const kb_trust *trust, SSL_SESSION *session, const char *host)
{
    int     rc;
    size_t  n;

    n = 0;
    told[0] = '\0';
    rc = kb_tls_verify(trust, session, (const uint8_t *) host, host ? strlen(host) : 0, (uint8_t *) told, sizeof(told) - 1, &n);

    if (rc == KB_E_TLS) {
        MUST(n > 0 && n < sizeof(told));
        told[n] = '\0';
    }

    /* Nothing is left for the host to stumble over. */

    CHECK_EQ(ERR_peek_error(), 0);

    return rc;
}


/* What is said of a server under a name: NULL where it is the right one. */

static void
expect_(server_t server, const kb_trust *trust, const char *host, const char *message)
{
    SSL_SESSION  *session;

    session = shake_hands(&server);
    CHECK_EQ(verify(trust, session, host), message ? KB_E_TLS : KB_OK);

    if (message != NULL && strstr(told, message) == NULL) {
        complain(told, __FILE__, __LINE__);
    }

    SSL_SESSION_free(session);
}


#define expect(...)  FROM_HERE(expect_(__VA_ARGS__))


static void
test_trusted(void)
{
    server_t  as;

    as = load("as");
    expect(as, ca, "localhost", NULL);
    expect(as, ca, "LocalHost", NULL);
    expect(as, ca, "127.0.0.1", NULL);
    version = TLS1_2_VERSION;
    expect(as, ca, "localhost", NULL);
    version = TLS1_3_VERSION;
    unload(as);
}


static void
test_other_ca(void)
{
    server_t  as, as2;

    as = load("as");
    as2 = load("as2");
    expect(as, other_ca, "localhost", "unable to get local issuer certificate");
    expect(as2, ca, "localhost", "unable to get local issuer certificate");
    expect(as2, other_ca, "localhost", NULL);
    unload(as);
    unload(as2);
}


static void
test_names(void)
{
    server_t     as, wrong;
    const char  *host;
    size_t       i;
    static const char *const  hosts[] = {
        "", "localhos", "localhostx", "a.localhost", "127.0.0.2", "127.0.0.1x", "::1", "0127.0.0.1", "127.1", "[127.0.0.1]", "*", "as",
        "localhost ", "\xff"
    };

    as = load("as");
    for (i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
        host = hosts[i];
        expect(as, ca, host, "the server's certificate is not for");
        expect(as, NULL, host, "the server's certificate is not for");
    }

    unload(as);

    wrong = load("as-wrong-name");
    expect(wrong, ca, "localhost", "the server's certificate is not for \"localhost\"");
    expect(wrong, ca, "elsewhere.test", NULL);
    unload(wrong);
}


static void
test_nul_in_name(void)
{
    server_t      as;
    SSL_SESSION  *session;

    as = load("as");
    session = shake_hands(&as);
    CHECK_EQ(kb_tls_verify(ca, session, (const uint8_t *) "localhost\0.evil", 15, NULL, 0, NULL), KB_E_TLS);
    CHECK_EQ(kb_tls_verify(ca, session, (const uint8_t *) "localhost\0", 10, NULL, 0, NULL), KB_E_TLS);
    CHECK_EQ(kb_tls_verify(ca, session, (const uint8_t *) "localhost...", 9, NULL, 0, NULL), KB_OK);
    SSL_SESSION_free(session);
    unload(as);
}


static void
test_kinds_of_names(void)
{
    server_t   authority, server;
    kb_trust  *trust;
    uint8_t    pem[4096];
    size_t     n;

    authority = issue("root", NULL, NULL, 1, NULL);
    n = pem_of(authority.cert, pem, sizeof(pem));
    MUST(kb_trust_new(pem, n, &trust, NULL, 0, NULL) == KB_OK);

    server = issue("as.test", "IP:::1,IP:10.0.0.1,DNS:*.wild.test,DNS:f*.part.test", "serverAuth", 0, &authority);
    expect(server, trust, "::1", NULL);
    expect(server, trust, "0:0:0:0:0:0:0:1", NULL);
    expect(server, trust, "10.0.0.1", NULL);
    expect(server, trust, "::ffff:10.0.0.1", "not for");
    expect(server, trust, "::2", "not for");
    expect(server, trust, "a.wild.test", NULL);
    expect(server, trust, "a.b.wild.test", "not for");
    expect(server, trust, "wild.test", "not for");
    expect(server, trust, "foo.part.test", "not for");
    expect(server, trust, "as.test", "not for");
    unload(server);

    /* An address is no name, and the common name is none. */

    server = issue("localhost", "DNS:127.0.0.1", "serverAuth", 0, &authority);
    expect(server, trust, "127.0.0.1", "not for");
    expect(server, trust, "localhost", "not for");
    unload(server);
    server = issue("localhost", NULL, "serverAuth", 0, &authority);
    expect(server, trust, "localhost", "not for");
    expect(server, NULL, "localhost", "not for");
    unload(server);

    kb_trust_free(trust);
    unload(authority);
}


static void
test_purpose(void)
{
    server_t   authority, server;
    kb_trust  *trust;
    uint8_t    pem[4096];
    size_t     n;

    authority = issue("root", NULL, NULL, 1, NULL);
    n = pem_of(authority.cert, pem, sizeof(pem));
    MUST(kb_trust_new(pem, n, &trust, NULL, 0, NULL) == KB_OK);

    server = issue("a", "DNS:localhost", "clientAuth", 0, &authority);
    expect(server, trust, "localhost", "unsuitable certificate purpose");
    unload(server);
    server = issue("a", "DNS:localhost", NULL, 0, &authority);
    expect(server, trust, "localhost", NULL);
    unload(server);

    kb_trust_free(trust);
    unload(authority);
}


static void
test_expired(void)
{
    server_t  expired;

    expired = load("as-expired");
    expect(expired, ca, "localhost", "certificate has expired");
    expect(expired, NULL, "localhost", NULL);
    unload(expired);
}


/* The chain that the server sent is used, and is not trusted for itself. */

static void
test_intermediate(void)
{
    server_t   authority, between, leaf, no_ca, under;
    kb_trust  *trust;
    uint8_t    pem[4096];
    size_t     n;

    authority = issue("root", NULL, NULL, 1, NULL);
    between = issue("between", NULL, NULL, 1, &authority);
    leaf = issue("as", "DNS:localhost", "serverAuth", 0, &between);
    n = pem_of(authority.cert, pem, sizeof(pem));
    MUST(kb_trust_new(pem, n, &trust, NULL, 0, NULL) == KB_OK);

    expect(leaf, trust, "localhost", "unable to get local issuer certificate");
    leaf.issuer = between.cert;
    X509_up_ref(between.cert);
    expect(leaf, trust, "localhost", NULL);
    expect(leaf, ca, "localhost", "unable to get local issuer certificate");

    /* Root and leaf are sent: still the root must be among the trusted. */

    under = issue("as", "DNS:localhost", "serverAuth", 0, &authority);
    under.issuer = authority.cert;
    X509_up_ref(authority.cert);
    expect(under, trust, "localhost", NULL);
    expect(under, ca, "localhost", "self-signed certificate in certificate chain");
    unload(under);

    /* A certificate that is none of a CA issued another. */

    no_ca = issue("as", "DNS:localhost", "serverAuth", 0, &authority);
    under = issue("b", "DNS:localhost", "serverAuth", 0, &no_ca);
    under.issuer = no_ca.cert;
    X509_up_ref(no_ca.cert);
    expect(under, trust, "localhost", "certificate");
    unload(under);
    unload(no_ca);

    kb_trust_free(trust);
    unload(leaf);
    unload(between);
    unload(authority);
}


static void
test_self_signed(void)
{
    server_t   server;
    kb_trust  *trust;
    uint8_t    pem[4096];
    size_t     n;

    server = issue("as", "DNS:localhost", "serverAuth", 0, NULL);
    expect(server, ca, "localhost", "self-signed certificate");
    n = pem_of(server.cert, pem, sizeof(pem));
    MUST(kb_trust_new(pem, n, &trust, NULL, 0, NULL) == KB_OK);
    expect(server, trust, "localhost", NULL);
    kb_trust_free(trust);
    unload(server);
}


static void
test_version(void)
{
    server_t      as;
    SSL_SESSION  *session;

    as = load("as");
    version = TLS1_1_VERSION;
    session = shake_hands(&as);
    version = TLS1_3_VERSION;
    CHECK_EQ(SSL_SESSION_get_protocol_version(session), TLS1_1_VERSION);
    CHECK_EQ(verify(ca, session, "localhost"), KB_E_TLS_VERSION);
    CHECK_EQ(verify(NULL, session, "localhost"), KB_E_TLS_VERSION);
    CHECK_EQ(verify(NULL, session, NULL), KB_E_TLS_VERSION);
    SSL_SESSION_free(session);
    unload(as);
}


static void
test_bundles(void)
{
    size_t     i, n, m;
    uint8_t    pem[8192];
    kb_trust  *trust;
    server_t   as, as2;
    static const char *const  refused[] = {
        "", "junk", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
    };

    for (i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        fill(&trust);
        n = 0;
        CHECK_EQ(kb_trust_new((const uint8_t *) refused[i], strlen(refused[i]), &trust, pem, sizeof(pem), &n), KB_E_CONFIG);
        CHECK(n > 0 && untouched(&trust));
        CHECK_EQ(ERR_peek_error(), 0);
    }

    n = read_pem("ca", pem, sizeof(pem));
    m = n + read_pem("other-ca", pem + n, sizeof(pem) - n);
    as = load("as");
    as2 = load("as2");
    CHECK_EQ(kb_trust_new(pem, m, &trust, NULL, 0, NULL), KB_OK);
    expect(as, trust, "localhost", NULL);
    expect(as2, trust, "localhost", NULL);
    kb_trust_free(trust);

    /* Cut anywhere in the second one, it is not taken for the first alone. */

    for (i = n + 30; i < m - 2; i += 37) {
        CHECK_EQ(kb_trust_new(pem, i, &trust, NULL, 0, NULL), KB_E_CONFIG);
    }

    /* The same one twice. */

    MUST(read_pem("ca", pem + n, sizeof(pem) - n) == n);
    CHECK_EQ(kb_trust_new(pem, 2 * n, &trust, NULL, 0, NULL), KB_OK);
    expect(as, trust, "localhost", NULL);
    kb_trust_free(trust);
    unload(as);
    unload(as2);
}


static void
test_pair(void)
{
    server_t         as, as2;
    STACK_OF(X509)  *chain, *empty;

    as = load("as");
    as2 = load("as2");
    chain = sk_X509_new_null();
    empty = sk_X509_new_null();
    MUST(chain != NULL && empty != NULL && sk_X509_push(chain, as.cert) && sk_X509_push(chain, as2.cert));

    CHECK_EQ(kb_tls_pair(chain, as.key), KB_OK);
    CHECK_EQ(kb_tls_pair(chain, as2.key), KB_E_KEY);
    CHECK_EQ(kb_tls_pair(empty, as.key), KB_E_KEY);
    CHECK_EQ(kb_tls_pair(NULL, as.key), KB_E_NULL);
    CHECK_EQ(kb_tls_pair(chain, NULL), KB_E_NULL);
    CHECK_EQ(ERR_peek_error(), 0);

    sk_X509_free(chain);
    sk_X509_free(empty);
    unload(as);
    unload(as2);
}


static void
test_nulls(void)
{
    uint8_t       pem[8192], small[4];
    size_t        n, length;
    server_t      as2;
    kb_trust     *trust;
    SSL_SESSION  *session;

    n = read_pem("ca", pem, sizeof(pem));
    CHECK_EQ(kb_trust_new(NULL, n, &trust, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_trust_new(pem, n, NULL, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_trust_new(pem, 5, &trust, NULL, 0, NULL), KB_E_CONFIG);
    kb_trust_free(NULL);

    as2 = load("as2");
    session = shake_hands(&as2);
    CHECK_EQ(kb_tls_verify(ca, NULL, (const uint8_t *) "localhost", 9, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_tls_verify(NULL, NULL, NULL, 0, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_tls_verify(ca, session, NULL, 0, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_tls_verify(ca, session, NULL, 9, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_tls_verify(NULL, session, NULL, 0, NULL, 0, NULL), KB_OK);
    CHECK_EQ(kb_tls_verify(ca, session, (const uint8_t *) "localhost", 9, NULL, 0, NULL), KB_E_TLS);
    CHECK_EQ(kb_tls_verify(ca, session, (const uint8_t *) "localhost", 9, NULL, 0, &length), KB_E_TLS);
    CHECK(length > sizeof(small));
    CHECK_EQ(kb_tls_verify(ca, session, (const uint8_t *) "localhost", 9, small, sizeof(small), NULL), KB_E_TLS);
    CHECK(memcmp(small, "the ", 4) == 0);

    /* The session is as it was: the host goes on with it. */

    CHECK_EQ(verify(other_ca, session, "localhost"), KB_OK);
    CHECK(SSL_SESSION_get0_peer(session) != NULL);
    SSL_SESSION_free(session);
    unload(as2);
}


static kb_trust *
trust_of(const char *name)
{
    size_t     n;
    uint8_t    pem[8192];
    kb_trust  *trust;

    n = read_pem(name, pem, sizeof(pem));
    MUST(kb_trust_new(pem, n, &trust, NULL, 0, NULL) == KB_OK);

    return trust;
}


int
main(int argc, char **argv)
{
    if (argc != 2) {
        return 3;
    }

    directory = argv[1];
    ca = trust_of("ca");
    other_ca = trust_of("other-ca");

    run_test("a trusted server", test_trusted);
    run_test("another CA", test_other_ca);
    run_test("names", test_names);
    run_test("NUL in a name", test_nul_in_name);
    run_test("kinds of names", test_kinds_of_names);
    run_test("purpose", test_purpose);
    run_test("expired", test_expired);
    run_test("an intermediate CA", test_intermediate);
    run_test("self-signed", test_self_signed);
    run_test("TLS 1.1", test_version);
    run_test("bundles", test_bundles);
    run_test("a certificate and its key", test_pair);
    run_test("NULL and small buffers", test_nulls);

    kb_trust_free(ca);
    kb_trust_free(other_ca);

    return tests_failed ? 1 : 0;
}
