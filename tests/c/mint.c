/*
 * Writes what the other programs read into a directory: configurations, certificates, tokens.
 */

#include <openssl/pem.h>

#include "mint.h"


#define PROOF_URL  "https://api.example/data"


/* RFC 8705 appendix A */

static const char  rfc8705_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx\n"
    "ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG\n"
    "SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ\n"
    "/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID\n"
    "SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV\n"
    "bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=\n"
    "-----END CERTIFICATE-----\n";


static const char  *directory;


static void
put(const char *name, const char *before, const void *bytes, size_t len)
{
    char   path[4096];
    FILE  *file;

    MUST(snprintf(path, sizeof(path), "%s/%s", directory, name) < (int) sizeof(path));
    file = fopen(path, "wb");
    MUST(file != NULL);
    MUST(fputs(before, file) >= 0 && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
}


static void
put_certificate(const char *pem_name, const char *der_name, X509 *cert)
{
    char     *pem;
    BIO      *bio;
    long      len;
    uint8_t   der[MINT_DER_SIZE];

    bio = BIO_new(BIO_s_mem());
    MUST(bio != NULL);
    MUST(PEM_write_bio_X509(bio, cert));
    len = BIO_get_mem_data(bio, &pem);
    put(pem_name, "", pem, (size_t) len);
    BIO_free(bio);

    put(der_name, "", der, mint_der(cert, der));
}


static void
put_token(const char *name, const char *token)
{
    char  file[64], line[MINT_TOKEN_SIZE + 2];

    /* A line end, as an editor leaves it. */

    MUST(snprintf(line, sizeof(line), "%s\n", token) < (int) sizeof(line));

    MUST(snprintf(file, sizeof(file), "%s.token", name) < (int) sizeof(file));
    put(file, "", line, strlen(line));
    MUST(snprintf(file, sizeof(file), "%s.header", name) < (int) sizeof(file));
    put(file, "Bearer ", line, strlen(line));
}


int
main(int argc, char **argv)
{
    BIO       *bio;
    char       config[MINT_JSON_SIZE], token[MINT_TOKEN_SIZE], later[MINT_TOKEN_SIZE], thumbprint[45];
    char       jkt[45], proof[MINT_TOKEN_SIZE];
    X509      *cert;
    EVP_PKEY  *issuer, *own, *other;

    MUST(argc == 2);
    directory = argv[1];

    issuer = mint_key();
    own = mint_key();
    other = mint_key();

    mint_jwks(config, issuer);
    put("jwks.json", "", config, strlen(config));

    mint_config(config, issuer, "");
    put("bare.json", "", config, strlen(config));

    mint_config(config, issuer, ",\"upstream_headers_claims\":[\"client_id\",\"absent\"],"
                                "\"upstream_headers_names\":[\"X-Client-Id\",\"X-Absent\"]");
    put("config.json", "", config, strlen(config));

    mint_config(config, issuer, ",\"report_only\":true,\"hide_credentials\":true,"
                                "\"upstream_headers_claims\":[\"client_id\"],\"upstream_headers_names\":[\"X-Client-Id\"],"
                                "\"downstream_headers_claims\":[\"sub\",\"absent\"],"
                                "\"downstream_headers_names\":[\"X-Sub\",\"X-Absent\"]");
    put("report.json", "", config, strlen(config));

    cert = mint_certificate(other, "client", 0);
    put_certificate("other.pem", "other.der", cert);
    X509_free(cert);

    cert = mint_certificate(own, "client", 0);
    put_certificate("client.pem", "client.der", cert);
    mint_thumbprint(thumbprint, cert);
    X509_free(cert);

    mint_token(token, issuer, thumbprint, MINT_NOW + MINT_HOUR / 2);
    put_token("allow", token);

    /* A later expiry under the signature of the first. */

    mint_token(later, issuer, thumbprint, MINT_NOW + MINT_HOUR);
    strcpy(strrchr(later, '.'), strrchr(token, '.'));
    put_token("tampered", later);

    mint_token(token, other, thumbprint, MINT_NOW + MINT_HOUR / 2);
    put_token("forged", token);

    mint_token(token, issuer, thumbprint, MINT_NOW);
    put_token("expired", token);

    mint_token(token, issuer, NULL, MINT_NOW + MINT_HOUR / 2);
    put_token("unbound", token);

    /* A token for proofs, proofs by its key, and one by another. */

    mint_jkt(jkt, own);
    mint_bound_token(token, issuer, "jkt", jkt, MINT_NOW + MINT_HOUR / 2);
    put("dpop.header", "DPoP ", token, strlen(token));
    put("dpop-bearer.header", "Bearer ", token, strlen(token));
    mint_proof(proof, own, token, PROOF_URL, "p1");
    put("dpop.proof", "", proof, strlen(proof));
    mint_proof(proof, own, token, PROOF_URL, "p2");
    put("dpop-2.proof", "", proof, strlen(proof));
    mint_proof(proof, other, token, PROOF_URL, "p1");
    put("dpop-other.proof", "", proof, strlen(proof));

    bio = BIO_new_mem_buf(rfc8705_pem, -1);
    MUST(bio != NULL);
    cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    MUST(cert != NULL);
    put_certificate("rfc8705.pem", "rfc8705.der", cert);
    X509_free(cert);
    BIO_free(bio);

    EVP_PKEY_free(issuer);
    EVP_PKEY_free(own);
    EVP_PKEY_free(other);

    return 0;
}
