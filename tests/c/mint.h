/*
 * Keys, certificates, tokens and configurations for the tests, made with libcrypto. Nothing here decides anything.
 */

#ifndef MINT_H
#define MINT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>


/* The tests' clock stands still; certificates are valid for an hour around it. */

#define MINT_NOW         1700000000
#define MINT_HOUR        3600
#define MINT_TOKEN_SIZE  2048
#define MINT_JSON_SIZE   4096
#define MINT_DER_SIZE    (24 * 1024)


#define MUST(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            ERR_print_errors_fp(stderr); \
            exit(3); \
        } \
    } while (0)


/* Writes base64url with a NUL behind it; the room must be that of base64 with padding. */

static inline void
mint_base64url(char *out, const uint8_t *bytes, size_t len)
{
    char  *p;

    EVP_EncodeBlock((unsigned char *) out, bytes, (int) len);

    for (p = out; *p != '\0'; p++) {
        switch (*p) {
        case '+':
            *p = '-';
            break;
        case '/':
            *p = '_';
            break;
        case '=':
            *p = '\0';
            return;
        }
    }
}


static inline EVP_PKEY *
mint_key(void)
{
    EVP_PKEY  *key;

    key = EVP_EC_gen("P-256");
    MUST(key != NULL);

    return key;
}


/* Makes a self-signed certificate with that many bytes in a comment. */

static inline X509 *
mint_certificate(EVP_PKEY *key, const char *name, size_t padding)
{
    char            *comment;
    X509            *cert;
    X509_NAME       *subject;
    X509_EXTENSION  *extension;

    cert = X509_new();
    MUST(cert != NULL);
    MUST(X509_set_version(cert, X509_VERSION_3));
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1));
    MUST(ASN1_TIME_set(X509_getm_notBefore(cert), MINT_NOW - MINT_HOUR) != NULL);
    MUST(ASN1_TIME_set(X509_getm_notAfter(cert), MINT_NOW + MINT_HOUR) != NULL);

    subject = X509_get_subject_name(cert);
    MUST(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0));
    MUST(X509_set_issuer_name(cert, subject));
    MUST(X509_set_pubkey(cert, key));

    if (padding > 0) {
        comment = (char *) malloc(padding + 1);
        MUST(comment != NULL);
        memset(comment, 'x', padding);
        comment[padding] = '\0';

        extension = X509V3_EXT_conf_nid(NULL, NULL, NID_netscape_comment, comment);
        MUST(extension != NULL);
        MUST(X509_add_ext(cert, extension, -1));
        X509_EXTENSION_free(extension);
        free(comment);
    }

    MUST(X509_sign(cert, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()));

    return cert;
}


static inline size_t
mint_der(X509 *cert, uint8_t out[MINT_DER_SIZE])
{
    int  len;

    len = i2d_X509(cert, NULL);
    MUST(len > 0 && len <= MINT_DER_SIZE);
    MUST(i2d_X509(cert, &out) == len);

    return (size_t) len;
}


/* The x5t#S256 of a certificate. */

static inline void
mint_thumbprint(char out[45], X509 *cert)
{
    uint8_t  der[MINT_DER_SIZE], hash[32];

    MUST(EVP_Digest(der, mint_der(cert, der), hash, NULL, EVP_sha256(), NULL));
    mint_base64url(out, hash, sizeof(hash));
}


/* The coordinates of a public key. */

static inline void
mint_point(char x[45], char y[45], EVP_PKEY *key)
{
    size_t   len;
    uint8_t  point[65];

    MUST(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &len));
    MUST(len == sizeof(point) && point[0] == 4);
    mint_base64url(x, point + 1, 32);
    mint_base64url(y, point + 33, 32);
}


/* The JWK set of an issuer with that key. The other key is one that no issuer should publish. */

static inline void
mint_jwks(char out[MINT_JSON_SIZE], EVP_PKEY *key)
{
    char  x[45], y[45];

    mint_point(x, y, key);
    MUST(snprintf(out, MINT_JSON_SIZE,
                  "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"k1\",\"x\":\"%s\",\"y\":\"%s\"},"
                  "{\"kty\":\"oct\",\"kid\":\"symmetric\",\"k\":\"AAAA\"}]}", x, y) < MINT_JSON_SIZE);
}


/* A configuration that trusts the key; the options begin with a comma, or are empty. */

static inline void
mint_config(char out[MINT_JSON_SIZE], EVP_PKEY *key, const char *options)
{
    char  jwks[MINT_JSON_SIZE];

    mint_jwks(jwks, key);
    MUST(snprintf(out, MINT_JSON_SIZE,
                  "{\"issuer\":\"https://as.example\",\"audience_required\":[\"https://api.example\"],\"jwks\":%s%s}",
                  jwks, options) < MINT_JSON_SIZE);
}


/* A JWS by ES256. */

static inline void
mint_jws(char out[MINT_TOKEN_SIZE], EVP_PKEY *key, const char *header, const char *claims)
{
    size_t          len;
    uint8_t         der[128], rs[64];
    ECDSA_SIG      *sig;
    EVP_MD_CTX     *ctx;
    const uint8_t  *p;

    mint_base64url(out, (const uint8_t *) header, strlen(header));
    strcat(out, ".");
    mint_base64url(out + strlen(out), (const uint8_t *) claims, strlen(claims));

    len = sizeof(der);
    ctx = EVP_MD_CTX_new();
    MUST(ctx != NULL);
    MUST(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key));
    MUST(EVP_DigestSign(ctx, der, &len, (const uint8_t *) out, strlen(out)));
    EVP_MD_CTX_free(ctx);

    /* JWS has r and s in 32 bytes each (RFC 7518 section 3.4), OpenSSL gives DER. */

    p = der;
    sig = d2i_ECDSA_SIG(NULL, &p, (long) len);
    MUST(sig != NULL);
    MUST(BN_bn2binpad(ECDSA_SIG_get0_r(sig), rs, 32) == 32);
    MUST(BN_bn2binpad(ECDSA_SIG_get0_s(sig), rs + 32, 32) == 32);
    ECDSA_SIG_free(sig);

    strcat(out, ".");
    mint_base64url(out + strlen(out), rs, sizeof(rs));
}


/* An ES256 access token (RFC 9068), bound to a thumbprint by that member of cnf. */

static inline void
mint_bound_token(char out[MINT_TOKEN_SIZE], EVP_PKEY *key, const char *member, const char *thumbprint, int64_t exp)
{
    char  cnf[128], claims[512];

    cnf[0] = '\0';
    if (thumbprint != NULL) {
        MUST(snprintf(cnf, sizeof(cnf), ",\"cnf\":{\"%s\":\"%s\"}", member, thumbprint) < (int) sizeof(cnf));
    }

    MUST(snprintf(claims, sizeof(claims),
                  "{\"iss\":\"https://as.example\",\"aud\":\"https://api.example\",\"sub\":\"alice\",\"client_id\":\"app\","
                  "\"jti\":\"j1\",\"iat\":%d,\"exp\":%lld%s}", MINT_NOW, (long long) exp, cnf) < (int) sizeof(claims));

    mint_jws(out, key, "{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"k1\"}", claims);
}


/* Likewise bound to a certificate, if there is one. */

static inline void
mint_token(char out[MINT_TOKEN_SIZE], EVP_PKEY *key, const char *thumbprint, int64_t exp)
{
    mint_bound_token(out, key, "x5t#S256", thumbprint, exp);
}


/* The jkt of a key (RFC 7638). */

static inline void
mint_jkt(char out[45], EVP_PKEY *key)
{
    char     x[45], y[45], jwk[256];
    uint8_t  hash[32];

    mint_point(x, y, key);
    MUST(snprintf(jwk, sizeof(jwk), "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x, y)
         < (int) sizeof(jwk));
    MUST(EVP_Digest(jwk, strlen(jwk), hash, NULL, EVP_sha256(), NULL));
    mint_base64url(out, hash, sizeof(hash));
}


/* A DPoP proof (RFC 9449) for a GET of that URL with that token. */

static inline void
mint_proof(char out[MINT_TOKEN_SIZE], EVP_PKEY *key, const char *token, const char *url, const char *jti)
{
    char     x[45], y[45], ath[45], header[256], claims[512];
    uint8_t  hash[32];

    mint_point(x, y, key);
    MUST(snprintf(header, sizeof(header),
                  "{\"typ\":\"dpop+jwt\",\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}}",
                  x, y) < (int) sizeof(header));

    MUST(EVP_Digest(token, strlen(token), hash, NULL, EVP_sha256(), NULL));
    mint_base64url(ath, hash, sizeof(hash));
    MUST(snprintf(claims, sizeof(claims),
                  "{\"jti\":\"%s\",\"htm\":\"GET\",\"htu\":\"%s\",\"iat\":%d,\"ath\":\"%s\"}", jti, url, MINT_NOW, ath)
         < (int) sizeof(claims));

    mint_jws(out, key, header, claims);
}


#endif /* MINT_H */
