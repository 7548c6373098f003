/*
 * Verifies a certificate-bound access token (RFC 8705), all from files:
 *
 *     verify CONFIG.json TOKEN_FILE CERT.pem|CERT.der|- [UNIX_TIME]
 *
 * "-": the connection has no certificate. Prints the reason and the claims of an allowed token.
 * Exit status: 0 allow, 1 deny, 2 error.
 */

#include "input.h"


int
main(int argc, char **argv)
{
    int              rc;
    kb_str           cert, json;
    size_t           config_len, token_len, message_len;
    int32_t          status;
    int64_t          now_s;
    uint32_t         form, reason;
    kb_claims       *claims;
    kb_verifier     *verifier;
    static uint8_t   config[CONFIG_SIZE], token[TOKEN_SIZE], der_or_pem[CERT_SIZE], message[1024];

    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: verify CONFIG.json TOKEN_FILE CERT.pem|CERT.der|- [UNIX_TIME]\n");
        return FAILED;
    }

    if (check_abi() != 0
        || read_file(argv[1], config, sizeof(config), &config_len) != 0
        || read_line(argv[2], token, sizeof(token), &token_len) != 0
        || read_cert(argv[3], der_or_pem, sizeof(der_or_pem), &cert, &form) != 0
        || read_time(argc == 5 ? argv[4] : NULL, &now_s) != 0)
    {
        return FAILED;
    }

    /* One verifier for the life of the process: it holds the issuer's keys, prepared. */

    message_len = 0;

    status = kb_verifier_new(config, config_len, &verifier, message, sizeof(message), &message_len);
    if (status != KB_OK) {
        print_error(argv[1], status, message, message_len, sizeof(message));
        return FAILED;
    }

    rc = FAILED;
    claims = NULL;

    /* The status says whether there is a decision, the reason what it is. */

    status = kb_verifier_verify(verifier, token, token_len, cert.ptr, cert.len, form, now_s, &reason, &claims);
    if (status != KB_OK) {
        print_error("kb_verifier_verify()", status, NULL, 0, 0);
        goto done;
    }

    print_reason(reason);

    if (reason != KB_REASON_ALLOWED) {
        rc = DENIED;
        goto done;
    }

    status = kb_claims_json(claims, &json);
    if (status != KB_OK) {
        print_error("kb_claims_json()", status, NULL, 0, 0);
        goto done;
    }

    print_str("", json, "\n");
    rc = ALLOWED;

done:

    kb_claims_free(claims);
    kb_verifier_free(verifier);

    return rc;
}
