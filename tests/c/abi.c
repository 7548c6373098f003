/*
 * Functions of keybound.h from C: what they answer, what they write, and above all what they do not. What has to do with
 * authorization servers is in steps.c.
 *
 *     abi DIRECTORY       with the files that mint wrote; not linked with OpenSSL
 */

#include <pthread.h>

#include "data.h"


#define THUMBPRINT  "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"
#define REFUSED     "{\"issuer\":\"https://as.example\",\"isuer\":1}"


static data_t       config, bare, token, header, unbound, pem, der, other, rfc8705_pem, rfc8705_der;
static data_t       dpop_header, dpop_bearer, dpop_proof;
static kb_engine   *engine, *bare_engine;
static kb_verifier *verifier;

static const char   jwk[] =  /* RFC 7638 section 3.1 */
    "{\"kty\":\"RSA\",\"n\":\"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPeb"
    "WKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zg"
    "dAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJ"
    "zKnqDKgw\",\"e\":\"AQAB\",\"alg\":\"RS256\",\"kid\":\"2011-04-29\"}";


/* An engine with a configuration of the files, options that begin with a comma, and options of the host's own. */

static kb_engine *
engine_set(const data_t *base, const char *options, const kb_setting *settings, size_t count)
{
    char        text[sizeof(base->bytes)];
    size_t      len;
    kb_engine  *made;

    len = base->len - 1;
    memcpy(text, base->bytes, len);
    len += (size_t) snprintf(text + len, sizeof(text) - len, "%s}", options);

    if (base->bytes[base->len - 1] != '}'
        || kb_engine_new_with((const uint8_t *) text, len, settings, count, &made, NULL, 0, NULL) != KB_OK)
    {
        exit(3);
    }

    return made;
}


static kb_engine *
engine_with(const data_t *base, const char *options)
{
    return engine_set(base, options, NULL, 0);
}


static kb_facts
facts_of(const data_t *cert, uint32_t form)
{
    return facts_for(str(&header), cert, form);
}


static int
is_empty(const kb_decision *d)
{
    return d->struct_size == sizeof(*d) && d->step == KB_STEP_INVALID && d->reason == 0 && d->check == NULL
           && d->token_id == 0 && d->response.status == 0 && d->response.retry_after_s == 0
           && d->response.www_authenticate.ptr == NULL && d->response.content_type.ptr == NULL && d->response.body.ptr == NULL;
}


#define check_refused(...)       FROM_HERE(check_refused_(__VA_ARGS__))
#define check_invalid(...)       FROM_HERE(check_invalid_(__VA_ARGS__))
#define check_invalid_with(...)  FROM_HERE(check_invalid_with_(__VA_ARGS__))
#define check_match(...)         FROM_HERE(check_match_(__VA_ARGS__))
#define check_verified(...)      FROM_HERE(check_verified_(__VA_ARGS__))
#define check_allowed(...)       FROM_HERE(check_allowed_(__VA_ARGS__))


static void
check_refused_(const kb_engine *e, const kb_facts *facts, const char *code, uint32_t status)
{
    kb_decision  decision;

    decide(e, facts, &decision);

    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK_EQ(decision.response.status, status);
    CHECK_EQ(decision.response.retry_after_s, 0);
    CHECK(str_is(decision.response.content_type, "application/json; charset=utf-8"));
    CHECK(decision.response.body.len > 0 && decision.response.body.ptr[0] == '{');
    CHECK(decision.check == NULL);
    CHECK(kb_reason_code(decision.reason) != NULL && strcmp(kb_reason_code(decision.reason), code) == 0);
}


static void
check_invalid_with_(const kb_engine *e, const kb_facts *facts, int32_t status)
{
    kb_decision  decision;

    decision = old_allow();
    CHECK_EQ(kb_engine_decide(e, facts, &decision), status);
    CHECK(is_empty(&decision));
}


static void
check_invalid_(const kb_facts *facts, int32_t status)
{
    check_invalid_with_(engine, facts, status);
}


static void
test_library(void)
{
    int          i, j;
    const char  *texts[12];

    static const int32_t  statuses[] = {
        KB_OK, KB_E_NULL, KB_E_ARGUMENT, KB_E_CONFIG, KB_E_STATE, KB_E_CERTIFICATE, KB_E_KEY, KB_E_RANGE, KB_E_NO_OPENSSL,
        KB_E_TLS, KB_E_TLS_VERSION, KB_E_HTTP, KB_E_TOO_LARGE, KB_E_PANIC
    };

    CHECK_EQ(kb_abi_version(), KB_ABI_VERSION);
    CHECK(strcmp(kb_version(), KEYBOUND_VERSION) == 0);

    for (i = 0; i < 12; i++) {
        CHECK(statuses[i] == 0 || statuses[i] < 0);
        texts[i] = kb_strerror(statuses[i]);
        CHECK(texts[i] != NULL && texts[i][0] != '\0' && strcmp(texts[i], "unknown status") != 0);

        for (j = 0; j < i; j++) {
            CHECK(statuses[i] != statuses[j] && strcmp(texts[i], texts[j]) != 0);
        }
    }

    CHECK(strcmp(kb_strerror(1), "unknown status") == 0);
    CHECK(strcmp(kb_strerror(-100), "unknown status") == 0);
    CHECK(strcmp(kb_strerror(INT32_MIN), "unknown status") == 0);
}


static void
test_reasons(void)
{
    uint32_t     i, n;
    const char  *code;

    CHECK(strcmp(kb_reason_code(KB_REASON_ALLOWED), "allowed") == 0);
    CHECK(strcmp(kb_reason_code(10), "no_token") == 0);
    CHECK(strcmp(kb_reason_code(64), "certificate_mismatch") == 0);
    CHECK(strcmp(kb_reason_code(99), "internal_error") == 0);
    CHECK(kb_reason_code(0) == NULL);
    CHECK(kb_reason_code(2) == NULL);
    CHECK(kb_reason_code(256 + 1) == NULL);
    CHECK(kb_reason_code(UINT32_MAX) == NULL);

    /* What is no reason must not pass for anonymous. */

    CHECK_EQ(kb_reason_is_binding(KB_REASON_ALLOWED), 0);
    CHECK_EQ(kb_reason_is_binding(10), 0);
    CHECK_EQ(kb_reason_is_binding(64), 1);
    CHECK_EQ(kb_reason_is_binding(132), 1);
    CHECK_EQ(kb_reason_is_binding(2), 1);

    for (i = 0, n = 0; i < 1000; i++) {
        code = kb_reason_code(i);
        if (code != NULL) {
            CHECK(code[0] != '\0' && strspn(code, "abcdefghijklmnopqrstuvwxyz_") == strlen(code));
            n++;
        }
    }

    CHECK_EQ(n, REASONS);
}


static void
test_certificate_thumbprint(void)
{
    uint32_t  form;
    uint8_t   out[KB_THUMBPRINT_SIZE], two[2 * sizeof(rfc8705_der.bytes)];

    CHECK_EQ(kb_certificate_thumbprint(rfc8705_der.bytes, rfc8705_der.len, KB_CERT_DER, &out), KB_OK);
    CHECK(memcmp(out, THUMBPRINT, KB_THUMBPRINT_SIZE) == 0);

    fill(&out);
    CHECK_EQ(kb_certificate_thumbprint(rfc8705_pem.bytes, rfc8705_pem.len, KB_CERT_PEM, &out), KB_OK);
    CHECK(memcmp(out, THUMBPRINT, KB_THUMBPRINT_SIZE) == 0);

    fill(&out);
    CHECK_EQ(kb_certificate_thumbprint(NULL, 0, KB_CERT_DER, &out), KB_E_NULL);
    CHECK_EQ(kb_certificate_thumbprint(NULL, rfc8705_pem.len, KB_CERT_PEM, &out), KB_E_NULL);
    CHECK_EQ(kb_certificate_thumbprint(rfc8705_der.bytes, rfc8705_der.len, KB_CERT_DER, NULL), KB_E_NULL);
    CHECK_EQ(kb_certificate_thumbprint(NULL, 0, KB_CERT_NONE, &out), KB_E_ARGUMENT);

    for (form = 3; form != 0; form = form < 0x80000000 ? form * 2 : 0) {
        CHECK_EQ(kb_certificate_thumbprint(rfc8705_der.bytes, rfc8705_der.len, form, &out), KB_E_ARGUMENT);
    }

    CHECK_EQ(kb_certificate_thumbprint(rfc8705_der.bytes, rfc8705_der.len, 256 + KB_CERT_DER, &out), KB_E_ARGUMENT);
    CHECK_EQ(kb_certificate_thumbprint(rfc8705_der.bytes, rfc8705_der.len, KB_CERT_NONE, &out), KB_E_ARGUMENT);

    memcpy(two, rfc8705_der.bytes, rfc8705_der.len);
    memcpy(two + rfc8705_der.len, rfc8705_der.bytes, rfc8705_der.len);
    CHECK_EQ(kb_certificate_thumbprint(two, 2 * rfc8705_der.len, KB_CERT_DER, &out), KB_E_CERTIFICATE);
    CHECK_EQ(kb_certificate_thumbprint(two, rfc8705_der.len + 1, KB_CERT_DER, &out), KB_E_CERTIFICATE);
    CHECK_EQ(kb_certificate_thumbprint(two, rfc8705_der.len - 1, KB_CERT_DER, &out), KB_E_CERTIFICATE);
    CHECK_EQ(kb_certificate_thumbprint(two, 0, KB_CERT_DER, &out), KB_E_CERTIFICATE);
    CHECK_EQ(kb_certificate_thumbprint(two, 0, KB_CERT_PEM, &out), KB_E_CERTIFICATE);
    CHECK_EQ(kb_certificate_thumbprint(rfc8705_der.bytes, rfc8705_der.len, KB_CERT_PEM, &out), KB_E_CERTIFICATE);
    CHECK_EQ(kb_certificate_thumbprint(rfc8705_pem.bytes, rfc8705_pem.len, KB_CERT_DER, &out), KB_E_CERTIFICATE);

    /* One octet more than 16 KiB of DER. */

    memset(two, 0, sizeof(two));
    memcpy(two, "\x30\x82\x3f\xfd", 4);
    CHECK_EQ(kb_certificate_thumbprint(two, 16385, KB_CERT_DER, &out), KB_E_CERTIFICATE);
    CHECK(untouched(&out));

    memcpy(two, "\x30\x82\x3f\xfc", 4);
    CHECK_EQ(kb_certificate_thumbprint(two, 16384, KB_CERT_DER, &out), KB_OK);
}


static void
test_jwk_thumbprint(void)
{
    uint8_t  out[KB_THUMBPRINT_SIZE];

    static const char  *const bad[] = {
        "", "{}", "[]", "null", "{\"kty\":\"oct\",\"k\":\"AAAA\"}", "{\"kty\":\"RSA\",\"e\":\"AQAB\"}", "{\"kty\":\"RSA\"", NULL
    };
    int                 i;

    CHECK_EQ(kb_jwk_thumbprint((const uint8_t *) jwk, sizeof(jwk) - 1, &out), KB_OK);
    CHECK(memcmp(out, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", KB_THUMBPRINT_SIZE) == 0);

    fill(&out);
    CHECK_EQ(kb_jwk_thumbprint(NULL, 0, &out), KB_E_NULL);
    CHECK_EQ(kb_jwk_thumbprint(NULL, 1, &out), KB_E_NULL);
    CHECK_EQ(kb_jwk_thumbprint((const uint8_t *) jwk, sizeof(jwk) - 1, NULL), KB_E_NULL);
    CHECK_EQ(kb_jwk_thumbprint((const uint8_t *) jwk, sizeof(jwk) - 2, &out), KB_E_KEY);

    for (i = 0; bad[i] != NULL; i++) {
        CHECK_EQ(kb_jwk_thumbprint((const uint8_t *) bad[i], strlen(bad[i]), &out), KB_E_KEY);
    }

    CHECK(untouched(&out));
}


static void
check_match_(const char *cnf, const data_t *cert, uint32_t form, const char *code)
{
    uint32_t  reason;

    reason = KB_REASON_ALLOWED;
    CHECK_EQ(kb_confirmation_match(str_of(cnf).ptr, str_of(cnf).len, cert ? cert->bytes : NULL, cert ? cert->len : 0, form,
                                   &reason), KB_OK);
    CHECK(kb_reason_code(reason) != NULL && strcmp(kb_reason_code(reason), code) == 0);
}


static void
test_confirmation_match(void)
{
    kb_str    cnf;
    uint32_t  reason;

    static const char  own[] = "{\"x5t#S256\":\"" THUMBPRINT "\"}";

    check_match(own, &rfc8705_der, KB_CERT_DER, "allowed");
    check_match(own, &rfc8705_pem, KB_CERT_PEM, "allowed");
    check_match(own, &other, KB_CERT_DER, "certificate_mismatch");
    check_match(own, NULL, KB_CERT_NONE, "certificate_missing");
    check_match(NULL, &rfc8705_der, KB_CERT_DER, "token_unbound");
    check_match("", &rfc8705_der, KB_CERT_DER, "confirmation_malformed");
    check_match("{}", &rfc8705_der, KB_CERT_DER, "confirmation_malformed");
    check_match("null", &rfc8705_der, KB_CERT_DER, "confirmation_malformed");
    check_match("{\"x5t#S256\":\"" THUMBPRINT "\",\"jkt\":\"x\"}", &rfc8705_der, KB_CERT_DER, "confirmation_malformed");
    check_match("{\"x5t#S256\":\"" THUMBPRINT "\",\"jkt\":\"" THUMBPRINT "\"}", &rfc8705_der, KB_CERT_DER,
                "confirmation_unsupported");
    check_match("{\"x5t#S256\":\"" THUMBPRINT "\",\"jwk\":{}}", &rfc8705_der, KB_CERT_DER, "confirmation_unsupported");

    cnf = str_of(own);
    fill(&reason);
    CHECK_EQ(kb_confirmation_match(cnf.ptr, cnf.len, NULL, 0, KB_CERT_DER, &reason), KB_E_NULL);
    CHECK_EQ(kb_confirmation_match(cnf.ptr, cnf.len, NULL, 9, KB_CERT_PEM, &reason), KB_E_NULL);
    CHECK_EQ(kb_confirmation_match(cnf.ptr, cnf.len, der.bytes, der.len, KB_CERT_NONE, &reason), KB_E_ARGUMENT);
    CHECK_EQ(kb_confirmation_match(cnf.ptr, cnf.len, der.bytes, der.len, 3, &reason), KB_E_ARGUMENT);
    CHECK_EQ(kb_confirmation_match(cnf.ptr, cnf.len, der.bytes, der.len, UINT32_MAX, &reason), KB_E_ARGUMENT);
    CHECK_EQ(kb_confirmation_match(cnf.ptr, cnf.len, der.bytes, der.len - 1, KB_CERT_DER, &reason), KB_E_CERTIFICATE);
    CHECK_EQ(kb_confirmation_match(cnf.ptr, cnf.len, der.bytes, der.len, KB_CERT_DER, NULL), KB_E_NULL);
    CHECK(untouched(&reason));
}


/* Both constructors have one shape. */

typedef int32_t  (*make_pt)(const uint8_t *config, size_t len, void **out, uint8_t *buf, size_t cap, size_t *buf_len);


static int32_t
make_verifier(const uint8_t *text, size_t len, void **out, uint8_t *buf, size_t cap, size_t *buf_len)
{
    int32_t       status;
    kb_verifier  *made;

    made = (kb_verifier *) *out;
    status = kb_verifier_new(text, len, &made, buf, cap, buf_len);
    *out = made;

    return status;
}


static int32_t
make_engine(const uint8_t *text, size_t len, void **out, uint8_t *buf, size_t cap, size_t *buf_len)
{
    int32_t     status;
    kb_engine  *made;

    made = (kb_engine *) *out;
    status = kb_engine_new(text, len, &made, buf, cap, buf_len);
    *out = made;

    return status;
}


/* Likewise with options of the host's own. */

static kb_setting
setting_of(const char *name, const char *value, uint32_t flags)
{
    kb_setting  setting;

    memset(&setting, 0, sizeof(setting));
    setting.name = str_of(name);
    setting.value = str_of(value);
    setting.flags = flags;

    return setting;
}


static int32_t
make_engine_with(const uint8_t *text, size_t len, void **out, uint8_t *buf, size_t cap, size_t *buf_len)
{
    int32_t      status;
    kb_engine   *made;
    kb_setting   setting;

    made = (kb_engine *) *out;
    setting = setting_of("realm", "api", 0);
    status = kb_engine_new_with(text, len, &setting, 1, &made, buf, cap, buf_len);
    *out = made;

    return status;
}


static void
check_errors(make_pt make)
{
    int      place;
    void    *out;
    kb_str   refused;
    size_t   whole, cap, len, i;
    uint8_t  message[256], cut[256];

    refused = str_of(REFUSED);
    out = &place;

    CHECK_EQ(make(refused.ptr, refused.len, &out, message, sizeof(message), &whole), KB_E_CONFIG);
    CHECK(whole > 10 && whole < sizeof(message) - 1);
    CHECK(strncmp((const char *) message, "isuer: ", 7) == 0);

    for (cap = 0; cap <= whole + 1; cap++) {
        fill(&cut);
        len = 0;
        CHECK_EQ(make(refused.ptr, refused.len, &out, cut, cap, &len), KB_E_CONFIG);
        CHECK_EQ(len, whole);
        i = cap < whole ? cap : whole;
        CHECK(memcmp(cut, message, i) == 0);
        CHECK(all_a5(cut + i, sizeof(cut) - i));
    }

    len = 0;
    CHECK_EQ(make(refused.ptr, refused.len, &out, NULL, 0, &len), KB_E_CONFIG);
    CHECK_EQ(len, whole);
    CHECK_EQ(make(refused.ptr, refused.len, &out, NULL, sizeof(message), &len), KB_E_CONFIG);
    CHECK_EQ(make(refused.ptr, refused.len, &out, NULL, 0, NULL), KB_E_CONFIG);

    fill(&cut);
    CHECK_EQ(make(refused.ptr, refused.len, &out, cut, sizeof(cut), NULL), KB_E_CONFIG);
    CHECK(memcmp(cut, message, whole) == 0);

    fill(&cut);
    fill(&len);
    CHECK_EQ(make(NULL, 0, &out, cut, sizeof(cut), &len), KB_E_NULL);
    CHECK_EQ(make(NULL, config.len, &out, cut, sizeof(cut), &len), KB_E_NULL);
    CHECK(untouched(&cut) && untouched(&len));

    CHECK_EQ(make(refused.ptr, 0, &out, NULL, 0, NULL), KB_E_CONFIG);
    CHECK(out == &place);
}


static void
test_verifier_new(void)
{
    size_t        len;
    uint8_t       buf[64];
    kb_verifier  *made;

    check_errors(make_verifier);
    CHECK_EQ(kb_verifier_new(config.bytes, config.len, NULL, NULL, 0, NULL), KB_E_NULL);

    fill(&len);
    fill(&buf);
    CHECK_EQ(kb_verifier_new(config.bytes, config.len, &made, buf, sizeof(buf), &len), KB_OK);
    CHECK(untouched(&len) && untouched(&buf));
    kb_verifier_free(made);
}


static void
test_engine_new(void)
{
    size_t      len;
    uint8_t     buf[64];
    kb_engine  *made;

    check_errors(make_engine);
    CHECK_EQ(kb_engine_new(config.bytes, config.len, NULL, NULL, 0, NULL), KB_E_NULL);

    fill(&len);
    fill(&buf);
    CHECK_EQ(kb_engine_new(config.bytes, config.len, &made, buf, sizeof(buf), &len), KB_OK);
    CHECK(untouched(&len) && untouched(&buf));
    kb_engine_free(made);
}


/* An option of the host's own is there in place of the configuration's, or only where that has none. */

static void
test_settings_place(void)
{
    size_t        i;
    kb_facts      facts;
    kb_engine    *made;
    kb_setting    setting;
    kb_decision   decision;

    static const struct {
        const char  *option;
        uint32_t     flags, step;
    } rows[] = {
        { "", 0, KB_STEP_ALLOW },
        { "", KB_SETTING_DEFAULT, KB_STEP_ALLOW },
        { ",\"proof_of_possession_mtls\":\"strict\"", 0, KB_STEP_ALLOW },
        { ",\"proof_of_possession_mtls\":\"strict\"", KB_SETTING_DEFAULT, KB_STEP_RESPOND },
    };

    facts = facts_of(&other, KB_CERT_DER);

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        setting = setting_of("proof_of_possession_mtls", "off", rows[i].flags);
        made = engine_set(&bare, rows[i].option, &setting, 1);
        decide(made, &facts, &decision);
        CHECK_EQ(decision.step, rows[i].step);
        kb_engine_free(made);

        /* None at all. */

        made = engine_set(&bare, rows[i].option, NULL, 0);
        check_refused(made, &facts, "certificate_mismatch", 401);
        kb_engine_free(made);
    }
}


/* The text becomes what the option is: of an array, the settings of its name are the elements. */

static void
test_settings_types(void)
{
    kb_str        warning;
    uint8_t       value[] = "https://api.example";
    kb_facts      facts;
    kb_engine    *made;
    kb_setting    settings[3];
    kb_decision   decision;

    facts = facts_of(&der, KB_CERT_DER);

    settings[0] = setting_of("audience_required", "https://other.example", 0);
    settings[1] = setting_of("realm", "api", 0);
    settings[2] = setting_of("audience_required", (const char *) value, 0);
    made = engine_set(&bare, ",\"realm\":\"old\"", settings, 3);
    fill(&value);
    fill(&settings);
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    facts = facts_of(&other, KB_CERT_DER);
    decide(made, &facts, &decision);
    CHECK(str_is(decision.response.www_authenticate, "Bearer realm=\"api\", error=\"invalid_token\""));
    kb_engine_free(made);

    /* One of them alone, and both in one. */

    facts = facts_of(&der, KB_CERT_DER);
    settings[0] = setting_of("audience_required", "https://other.example", 0);
    made = engine_set(&bare, "", settings, 1);
    check_refused(made, &facts, "audience_mismatch", 401);
    kb_engine_free(made);
    settings[0] = setting_of("audience_required", "https://other.example https://api.example", 0);
    made = engine_set(&bare, "", settings, 1);
    check_refused(made, &facts, "audience_mismatch", 401);
    kb_engine_free(made);

    /* A number, and a boolean. */

    facts.now_s = NOW + 1800 + 59;
    check_refused(bare_engine, &facts, "token_expired", 401);
    settings[0] = setting_of("leeway", "60", 0);
    made = engine_set(&bare, "", settings, 1);
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    CHECK_EQ(kb_engine_report_only(made), 0);
    kb_engine_free(made);
    settings[0] = setting_of("report_only", "true", 0);
    made = engine_set(&bare, "", settings, 1);
    CHECK_EQ(kb_engine_report_only(made), 1);
    CHECK_EQ(kb_engine_warning(made, 0, &warning), KB_OK);
    kb_engine_free(made);
    settings[0] = setting_of("report_only", "false", 0);
    made = engine_set(&bare, ",\"report_only\":true", settings, 1);
    CHECK_EQ(kb_engine_report_only(made), 0);
    kb_engine_free(made);
}


static void
test_settings_errors(void)
{
    size_t       i, len;
    uint8_t      message[256];
    kb_engine   *made;
    kb_setting   settings[2];

    static const struct {
        const char  *name, *value;
        uint32_t     flags, reserved;
        int32_t      status;
        const char  *message;
    } rows[] = {
        { "realm", "b", 0, 0, KB_E_CONFIG, "realm: is set twice" },
        { "realm", "b", KB_SETTING_DEFAULT, 0, KB_E_CONFIG, "realm: is set twice" },
        { "isuer", "b", 0, 0, KB_E_CONFIG, "isuer: unknown option; did you mean issuer?" },
        { "realm\":\"b\",\"report_only", "true", 0, 0, KB_E_CONFIG, "realm\":\"b\",\"report_only: unknown option; " },
        { "", "b", 0, 0, KB_E_CONFIG, ": unknown option; " },
        { "leeway", "1s", 0, 0, KB_E_CONFIG, "leeway: must be a number, seconds, 0 to 60" },
        { "leeway", "61", 0, 0, KB_E_CONFIG, "leeway: must be a whole number from 0 to 60" },
        { "report_only", "on", 0, 0, KB_E_CONFIG, "report_only: must be a boolean" },
        { "audience_required", "", 0, 0, KB_E_CONFIG, "audience_required: an entry holds no word" },
        { "leeway", "1", 2, 0, KB_E_ARGUMENT, NULL },
        { "leeway", "1", 0x80000000 | KB_SETTING_DEFAULT, 0, KB_E_ARGUMENT, NULL },
        { "leeway", "1", 0, 1, KB_E_ARGUMENT, NULL },
        { "realm\xff", "b", 0, 0, KB_E_ARGUMENT, NULL },
        { "unauthorized_error_message", "\xc3", 0, 0, KB_E_ARGUMENT, NULL },
        { NULL, "b", 0, 0, KB_E_NULL, NULL },
        { "leeway", NULL, 0, 0, KB_E_NULL, NULL },
        { "leeway", "1", 0, 0, KB_OK, NULL },
        { "leeway", "1", KB_SETTING_DEFAULT, 0, KB_OK, NULL },
        { "unauthorized_error_message", "\xc3\xab", 0, 0, KB_OK, NULL },
    };

    settings[0] = setting_of("realm", "a", 0);

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        settings[1] = setting_of(rows[i].name, rows[i].value, rows[i].flags);
        settings[1].reserved = rows[i].reserved;
        fill(&len);
        fill(&made);
        fill(&message);
        CHECK_EQ(kb_engine_new_with(bare.bytes, bare.len, settings, 2, &made, message, sizeof(message), &len), rows[i].status);
        CHECK_EQ(untouched(&made), rows[i].status != KB_OK);

        if (rows[i].message == NULL) {
            CHECK(untouched(&message) && untouched(&len));

        } else if (memcmp(message, rows[i].message, strlen(rows[i].message)) != 0) {
            complain(rows[i].message, __FILE__, __LINE__);
        }

        if (rows[i].status == KB_OK) {
            kb_engine_free(made);
        }
    }

    /* A name without an end is none. */

    settings[0].name.len = SIZE_MAX;
    fill(&made);
    CHECK_EQ(kb_engine_new_with(bare.bytes, bare.len, settings, 1, &made, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_engine_new_with(bare.bytes, bare.len, NULL, 1, &made, NULL, 0, NULL), KB_E_NULL);
    CHECK(untouched(&made));
    settings[0] = setting_of("realm", "a", 0);
    CHECK_EQ(kb_engine_new_with(bare.bytes, bare.len, settings, 1, NULL, NULL, 0, NULL), KB_E_NULL);
    CHECK_EQ(kb_engine_new_with(NULL, bare.len, settings, 1, &made, NULL, 0, NULL), KB_E_NULL);

    /* A configuration that the options do not mend is refused as without them. */

    check_errors(make_engine_with);
}


static int32_t
verify(const data_t *t, const data_t *cert, uint32_t form, int64_t now, uint32_t *reason, kb_claims **claims)
{
    return kb_verifier_verify(verifier, t->bytes, t->len, cert ? cert->bytes : NULL, cert ? cert->len : 0, form, now, reason,
                              claims);
}


static void
check_verified_(const data_t *t, const data_t *cert, uint32_t form, int64_t now, const char *code)
{
    int         place;
    uint32_t    reason;
    kb_claims  *claims;

    reason = KB_REASON_ALLOWED;
    claims = (kb_claims *) &place;
    CHECK_EQ(verify(t, cert, form, now, &reason, &claims), KB_OK);
    CHECK(kb_reason_code(reason) != NULL && strcmp(kb_reason_code(reason), code) == 0);
    CHECK((claims != NULL) == (strcmp(code, "allowed") == 0));
    kb_claims_free(claims);

    CHECK_EQ(verify(t, cert, form, now, &reason, NULL), KB_OK);
    CHECK(kb_reason_code(reason) != NULL && strcmp(kb_reason_code(reason), code) == 0);
}


static void
test_verifier_verify(void)
{
    data_t      empty;
    uint32_t    reason;
    kb_claims  *claims;

    check_verified(&token, &der, KB_CERT_DER, NOW, "allowed");
    check_verified(&token, &pem, KB_CERT_PEM, NOW, "allowed");
    check_verified(&token, &other, KB_CERT_DER, NOW, "certificate_mismatch");
    check_verified(&token, NULL, KB_CERT_NONE, NOW, "certificate_missing");
    check_verified(&token, &der, KB_CERT_PEM, NOW, "certificate_malformed");
    check_verified(&unbound, &der, KB_CERT_DER, NOW, "token_unbound");
    check_verified(&token, &der, KB_CERT_DER, NOW + 1800, "token_expired");
    check_verified(&token, &der, KB_CERT_DER, INT64_MAX, "token_expired");
    check_verified(&token, &der, KB_CERT_DER, 1, "token_issued_in_future");
    empty.len = 0;
    check_verified(&empty, &der, KB_CERT_DER, NOW, "token_not_jwt");

    fill(&reason);
    fill(&claims);
    CHECK_EQ(kb_verifier_verify(NULL, token.bytes, token.len, der.bytes, der.len, KB_CERT_DER, NOW, &reason, &claims), KB_E_NULL);
    CHECK_EQ(kb_verifier_verify(verifier, NULL, 0, der.bytes, der.len, KB_CERT_DER, NOW, &reason, &claims), KB_E_NULL);
    CHECK_EQ(kb_verifier_verify(verifier, token.bytes, token.len, NULL, 0, KB_CERT_DER, NOW, &reason, &claims), KB_E_NULL);
    CHECK_EQ(verify(&token, &der, KB_CERT_DER, NOW, NULL, &claims), KB_E_NULL);
    CHECK_EQ(verify(&token, &der, KB_CERT_NONE, NOW, &reason, &claims), KB_E_ARGUMENT);
    CHECK_EQ(verify(&token, &der, 3, NOW, &reason, &claims), KB_E_ARGUMENT);
    CHECK_EQ(verify(&token, &der, KB_CERT_DER, 0, &reason, &claims), KB_E_ARGUMENT);
    CHECK_EQ(verify(&token, &der, KB_CERT_DER, INT64_MIN, &reason, &claims), KB_E_ARGUMENT);
    CHECK_EQ(verify(&token, &der, 0x10000 + KB_CERT_DER, NOW, &reason, &claims), KB_E_ARGUMENT);
    CHECK(untouched(&reason) && untouched(&claims));
}


static void
test_claims(void)
{
    kb_str        json;
    uint32_t      reason;
    kb_claims    *claims;
    kb_verifier  *made;

    CHECK_EQ(kb_verifier_new(config.bytes, config.len, &made, NULL, 0, NULL), KB_OK);
    CHECK_EQ(kb_verifier_verify(made, token.bytes, token.len, der.bytes, der.len, KB_CERT_DER, NOW, &reason, &claims), KB_OK);

    /* The claims outlive their verifier. */

    kb_verifier_free(made);

    fill(&json);
    CHECK_EQ(kb_claims_json(NULL, &json), KB_E_NULL);
    CHECK(untouched(&json));
    CHECK_EQ(kb_claims_json(claims, NULL), KB_E_NULL);

    CHECK_EQ(kb_claims_json(claims, &json), KB_OK);
    CHECK(json.len > 30 && memcmp(json.ptr, "{\"iss\":\"https://as.example\",", 28) == 0);
    CHECK(json.ptr[json.len - 1] == '}');
    kb_claims_free(claims);
}


static void
test_engine_response(void)
{
    kb_response  response;

    CHECK_EQ(kb_engine_response(engine, KB_REASON_CERTIFICATE_REFUSED, &response), KB_OK);
    CHECK_EQ(response.status, 401);
    CHECK(strcmp(kb_reason_code(KB_REASON_CERTIFICATE_REFUSED), "certificate_refused") == 0);
    CHECK(response.body.len > 0 && response.content_type.len > 0);
    CHECK(response.www_authenticate.len > 6 && memcmp(response.www_authenticate.ptr, "Bearer", 6) == 0);
    CHECK_EQ(kb_engine_response(engine, KB_REASON_CERTIFICATE_REFUSED, NULL), KB_E_NULL);

    CHECK_EQ(kb_engine_response(engine, KB_REASON_DUPLICATE_HEADER, &response), KB_OK);
    CHECK_EQ(response.status, 400);
    CHECK(str_is(response.www_authenticate, "Bearer error=\"invalid_request\""));
    CHECK(strcmp(kb_reason_code(KB_REASON_DUPLICATE_HEADER), "duplicate_header") == 0);

    /* Another token would not help: no challenge. */

    CHECK_EQ(kb_engine_response(engine, KB_REASON_CONSUMER_NOT_FOUND, &response), KB_OK);
    CHECK_EQ(response.status, 403);
    CHECK(response.www_authenticate.ptr == NULL);
    CHECK(str_is(response.body, "{\"message\":\"Forbidden\"}"));
    CHECK(strcmp(kb_reason_code(KB_REASON_CONSUMER_NOT_FOUND), "consumer_not_found") == 0);

    /* An allow has no answer, and no number is one by chance. */

    fill(&response);
    CHECK_EQ(kb_engine_response(engine, KB_REASON_ALLOWED, &response), KB_E_RANGE);
    CHECK_EQ(kb_engine_response(engine, 0, &response), KB_E_RANGE);
    CHECK_EQ(kb_engine_response(engine, UINT32_MAX, &response), KB_E_RANGE);
    CHECK_EQ(kb_engine_response(NULL, KB_REASON_CERTIFICATE_REFUSED, &response), KB_E_NULL);
    CHECK(untouched(&response));
}


static void
test_engine_lists(void)
{
    kb_str  s;

    CHECK_EQ(kb_engine_warning(engine, 0, &s), KB_OK);
    CHECK(s.len > 10 && memcmp(s.ptr, "key 1 (kid \"symmetric\") skipped: ", 33) == 0);
    CHECK_EQ(kb_engine_warning(engine, 0, NULL), KB_E_NULL);

    CHECK_EQ(kb_engine_upstream_header(engine, 0, &s), KB_OK);
    CHECK(str_is(s, "X-Client-Id"));
    CHECK_EQ(kb_engine_upstream_header(engine, 1, &s), KB_OK);
    CHECK(str_is(s, "X-Absent"));
    CHECK_EQ(kb_engine_upstream_header(engine, 0, NULL), KB_E_NULL);

    fill(&s);
    CHECK_EQ(kb_engine_warning(NULL, 0, &s), KB_E_NULL);
    CHECK_EQ(kb_engine_warning(engine, 1, &s), KB_E_RANGE);
    CHECK_EQ(kb_engine_warning(engine, SIZE_MAX, &s), KB_E_RANGE);
    CHECK_EQ(kb_engine_upstream_header(NULL, 0, &s), KB_E_NULL);
    CHECK_EQ(kb_engine_upstream_header(engine, 2, &s), KB_E_RANGE);
    CHECK_EQ(kb_engine_upstream_header(engine, SIZE_MAX, &s), KB_E_RANGE);
    CHECK_EQ(kb_engine_upstream_header(bare_engine, 0, &s), KB_E_RANGE);
    CHECK(untouched(&s));
}


/* What would be refused passes, with the reason of that and with nothing else. */

static void
test_report_only(void)
{
    kb_str        s, name, value;
    size_t        i;
    kb_facts      facts;
    kb_engine    *reporting;
    kb_decision   decision, refused;
    kb_response   response;

    static const uint32_t  flags[] = { 0, KB_WANT_CLAIMS };

    reporting = engine_with(&config, ",\"report_only\":true,\"hide_credentials\":true");
    CHECK_EQ(kb_engine_report_only(reporting), 1);
    CHECK_EQ(kb_engine_report_only(engine), 0);
    CHECK_EQ(kb_engine_report_only(NULL), 0);

    for (i = 0; i < 2; i++) {
        facts = facts_of(&other, KB_CERT_DER);
        facts.flags = flags[i];
        decide(bare_engine, &facts, &refused);
        CHECK_EQ(refused.step, KB_STEP_RESPOND);

        decide(reporting, &facts, &decision);
        CHECK_EQ(decision.step, KB_STEP_ALLOW);
        CHECK_EQ(decision.reason, refused.reason);
        CHECK(kb_reason_is_binding(decision.reason) == 1);
        CHECK(decision.token_id != 0 && decision.token_id == refused.token_id);
        CHECK(decision.response.status == 0 && decision.response.body.ptr == NULL);

        /* The check that comes because of the headers has none of them. */

        CHECK(decision.check != NULL);
        CHECK_EQ(kb_check_step(decision.check), KB_STEP_ALLOW);
        CHECK_EQ(kb_check_reason(decision.check), decision.reason);
        CHECK_EQ(kb_check_claims(decision.check, &s), KB_E_RANGE);
        CHECK_EQ(kb_check_claim(decision.check, (const uint8_t *) "sub", 3, &s), KB_E_RANGE);
        CHECK_EQ(kb_check_header(decision.check, 0, &name, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_response_header(decision.check, 0, &name, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_response(decision.check, &response), KB_E_STATE);
        kb_check_free(decision.check);

        facts.client_cert = str(&der);
        decide(reporting, &facts, &decision);
        CHECK_EQ(decision.step, KB_STEP_ALLOW);
        CHECK_EQ(decision.reason, KB_REASON_ALLOWED);
        CHECK_EQ(decision.token_id, 0);
        CHECK_EQ(kb_check_claims(decision.check, &s), KB_OK);
        CHECK_EQ(kb_check_claim(decision.check, (const uint8_t *) "sub", 3, &s), KB_OK);
        kb_check_free(decision.check);
    }

    /* No token, and too early. */

    facts = facts_of(&der, KB_CERT_DER);
    facts.authorization = str_of(NULL);
    facts.authorization_n = 0;
    decide(reporting, &facts, &decision);
    CHECK(decision.step == KB_STEP_ALLOW && strcmp(kb_reason_code(decision.reason), "no_token") == 0 && decision.token_id == 0);
    kb_check_free(decision.check);
    facts = facts_of(&der, KB_CERT_DER);
    facts.flags = KB_FACT_EARLY_DATA;
    decide(reporting, &facts, &decision);
    CHECK(decision.step == KB_STEP_ALLOW && strcmp(kb_reason_code(decision.reason), "early_data") == 0);
    kb_check_free(decision.check);

    /* What is wrong with the call is no decision. */

    facts.reserved = 1;
    decision = old_allow();
    CHECK_EQ(kb_engine_decide(reporting, &facts, &decision), KB_E_ARGUMENT);
    CHECK(is_empty(&decision));

    /* The host's own refusals have their answer all the same. The names to remove are there. */

    CHECK_EQ(kb_engine_response(reporting, KB_REASON_CERTIFICATE_REFUSED, &response), KB_OK);
    CHECK_EQ(response.status, 401);
    CHECK_EQ(kb_engine_upstream_header(reporting, 0, &s), KB_OK);
    CHECK(str_is(s, "X-Client-Id"));
    CHECK_EQ(kb_engine_upstream_header(reporting, 2, &s), KB_E_RANGE);
    kb_engine_free(reporting);
}


/* Headers that are removed from the request after the decision, and headers for the client. */

static void
test_headers(void)
{
    int          i;
    kb_str       name, value;
    kb_facts     facts;
    kb_engine   *made;
    kb_decision  decision;

    made = engine_with(&config, ",\"hide_credentials\":true,\"downstream_headers_claims\":[\"absent\",\"sub\",\"exp\"],"
                                "\"downstream_headers_names\":[\"X-None\",\"X-Sub\",\"X-Exp\"]");
    CHECK_EQ(kb_engine_upstream_header(made, 1, &name), KB_OK);
    CHECK_EQ(kb_engine_upstream_header(made, 2, &name), KB_E_RANGE);

    for (i = 0; i < 2; i++) {
        facts = facts_of(&der, KB_CERT_DER);
        decide(made, &facts, &decision);
        CHECK_EQ(decision.step, KB_STEP_ALLOW);
        CHECK(decision.check != NULL);

        CHECK_EQ(kb_check_header(decision.check, 0, &name, &value), KB_OK);
        CHECK(str_is(name, "X-Client-Id") && str_is(value, "app"));
        CHECK_EQ(kb_check_header(decision.check, 2, &name, &value), KB_OK);
        CHECK(str_is(name, "authorization") && value.ptr == NULL);
        CHECK_EQ(kb_check_header(decision.check, 3, &name, &value), KB_E_RANGE);

        CHECK_EQ(kb_check_response_header(decision.check, 0, &name, &value), KB_OK);
        CHECK(str_is(name, "X-Sub") && str_is(value, "alice"));
        CHECK_EQ(kb_check_response_header(decision.check, 1, &name, &value), KB_OK);
        CHECK(str_is(name, "X-Exp") && str_is(value, "1700001800"));

        fill(&name);
        fill(&value);
        CHECK_EQ(kb_check_response_header(decision.check, 2, &name, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_response_header(decision.check, SIZE_MAX, &name, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_response_header(decision.check, 0, NULL, &value), KB_E_NULL);
        CHECK_EQ(kb_check_response_header(decision.check, 0, &name, NULL), KB_E_NULL);
        CHECK_EQ(kb_check_response_header(NULL, 0, &name, &value), KB_E_NULL);
        CHECK(untouched(&name) && untouched(&value));
        kb_check_free(decision.check);

        facts = facts_of(&other, KB_CERT_DER);
        check_refused(made, &facts, "certificate_mismatch", 401);
    }

    kb_engine_free(made);
}


static void
test_decide(void)
{
    int          i;
    kb_facts     facts;
    kb_decision  decision;

    /* The second time the token and the certificate are remembered. */

    for (i = 0; i < 2; i++) {
        facts = facts_of(&der, KB_CERT_DER);
        decide(bare_engine, &facts, &decision);
        CHECK_EQ(decision.step, KB_STEP_ALLOW);
        CHECK_EQ(decision.reason, KB_REASON_ALLOWED);
        CHECK_EQ(decision.response.status, 0);
        CHECK(decision.check == NULL);

        facts = facts_of(&pem, KB_CERT_PEM);
        decide(bare_engine, &facts, &decision);
        CHECK_EQ(decision.step, KB_STEP_ALLOW);

        facts = facts_of(&other, KB_CERT_DER);
        check_refused(bare_engine, &facts, "certificate_mismatch", 401);

        facts = facts_of(NULL, KB_CERT_NONE);
        check_refused(bare_engine, &facts, "certificate_missing", 401);

        facts = facts_of(&der, KB_CERT_DER);
        facts.now_s = NOW + 1800;
        check_refused(bare_engine, &facts, "token_expired", 401);

        facts = facts_of(&der, KB_CERT_DER);
        facts.flags = KB_FACT_EARLY_DATA;
        check_refused(bare_engine, &facts, "early_data", 425);

        facts = facts_of(&der, KB_CERT_DER);
        facts.authorization_n = 2;
        check_refused(bare_engine, &facts, "several_tokens", 400);

        facts = facts_of(&der, KB_CERT_DER);
        facts.query = str_of("a=b&access_token=x");
        check_refused(bare_engine, &facts, "several_tokens", 400);

        facts = facts_of(&der, KB_CERT_DER);
        facts.authorization = str_of("");
        check_refused(bare_engine, &facts, "no_token", 401);

        facts = facts_of(&der, KB_CERT_DER);
        facts.authorization = str_of(NULL);
        facts.authorization_n = 0;
        check_refused(bare_engine, &facts, "no_token", 401);

        decide(bare_engine, &facts, &decision);
        CHECK(str_is(decision.response.www_authenticate, "Bearer"));
    }
}


/* The decision is the same whether the certificate is remembered or not. */

static void
test_form(void)
{
    kb_facts     facts;
    kb_engine   *made;
    kb_decision  decision;

    CHECK_EQ(kb_engine_new(bare.bytes, bare.len, &made, NULL, 0, NULL), KB_OK);

    facts = facts_of(&der, KB_CERT_PEM);
    check_refused(made, &facts, "certificate_malformed", 401);
    facts = facts_of(&pem, KB_CERT_DER);
    check_refused(made, &facts, "certificate_malformed", 401);

    facts = facts_of(&der, KB_CERT_DER);
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    facts = facts_of(&pem, KB_CERT_PEM);
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);

    facts = facts_of(&der, KB_CERT_PEM);
    check_refused(made, &facts, "certificate_malformed", 401);
    facts = facts_of(&pem, KB_CERT_DER);
    check_refused(made, &facts, "certificate_malformed", 401);

    kb_engine_free(made);
}


static void
test_decide_arguments(void)
{
    size_t       i;
    kb_facts     facts;
    kb_decision  decision, before;

    static const uint32_t  forms[] = { 3, 4, 256 + KB_CERT_DER, 0x10000 + KB_CERT_DER, UINT32_MAX };

    facts = facts_of(&der, KB_CERT_DER);
    CHECK_EQ(kb_engine_decide(engine, &facts, NULL), KB_E_NULL);
    CHECK_EQ(kb_engine_decide(NULL, NULL, NULL), KB_E_NULL);
    check_invalid(NULL, KB_E_NULL);

    decision = old_allow();
    CHECK_EQ(kb_engine_decide(NULL, &facts, &decision), KB_E_NULL);
    CHECK(is_empty(&decision));

    for (i = 0; i < SIZE_UP_TO(kb_facts, http); i++) {
        facts = facts_of(&der, KB_CERT_DER);
        facts.struct_size = i;
        check_invalid(&facts, KB_E_ARGUMENT);
    }

    for (i = 2; i < 32; i++) {
        facts = facts_of(&der, KB_CERT_DER);
        facts.flags = (uint32_t) 1 << i;
        check_invalid(&facts, KB_E_ARGUMENT);
    }

    for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        facts = facts_of(&der, forms[i]);
        check_invalid(&facts, KB_E_ARGUMENT);
        facts = facts_of(NULL, forms[i]);
        check_invalid(&facts, KB_E_ARGUMENT);
    }

    facts = facts_of(&der, KB_CERT_NONE);
    check_invalid(&facts, KB_E_ARGUMENT);
    facts = facts_of(NULL, KB_CERT_DER);
    check_invalid(&facts, KB_E_NULL);
    facts = facts_of(NULL, KB_CERT_PEM);
    facts.client_cert.len = pem.len;
    check_invalid(&facts, KB_E_NULL);

    /* What a host forgot to fill: the time, the count of a header that is there. */

    facts = facts_of(&der, KB_CERT_DER);
    facts.now_s = 0;
    check_invalid(&facts, KB_E_ARGUMENT);
    facts.now_s = -NOW;
    check_invalid(&facts, KB_E_ARGUMENT);
    facts = facts_of(&der, KB_CERT_DER);
    facts.authorization_n = 0;
    check_invalid(&facts, KB_E_ARGUMENT);
    facts = facts_of(&der, KB_CERT_DER);
    facts.reserved = 1;
    check_invalid(&facts, KB_E_ARGUMENT);

    /* A certificate beside `ssl`, which nothing may follow. */

    facts = facts_of(&der, KB_CERT_DER);
    facts.ssl = &facts;
    check_invalid(&facts, KB_E_ARGUMENT);

    /* Where the decision has no room, nothing of it is written. */

    for (i = 0; i < SIZE_UP_TO(kb_decision, token_id); i++) {
        facts = facts_of(&other, KB_CERT_DER);
        fill(&decision);
        decision.struct_size = i;
        before = decision;
        CHECK_EQ(kb_engine_decide(engine, &facts, &decision), KB_E_ARGUMENT);
        CHECK(memcmp(&decision, &before, sizeof(decision)) == 0);
    }
}


/* A program that was compiled with a later header has larger structs. */

static void
test_larger_structs(void)
{
    struct {
        kb_facts     facts;
        uint8_t      more[64];
    } facts;

    struct {
        kb_decision  decision;
        uint8_t      more[64];
    } decision;

    memset(&facts, 0, sizeof(facts));
    facts.facts = facts_of(&der, KB_CERT_DER);
    facts.facts.struct_size = sizeof(facts);
    fill(&decision);
    decision.decision.struct_size = sizeof(decision);

    CHECK_EQ(kb_engine_decide(bare_engine, &facts.facts, &decision.decision), KB_OK);
    CHECK_EQ(decision.decision.step, KB_STEP_ALLOW);
    CHECK_EQ(decision.decision.struct_size, sizeof(decision));
    CHECK(untouched(&decision.more));
}


/* What logins and sessions are decided from: who needs it gets no decision without, and an answer may have headers. */

#define GRANTS  ",\"client_id\":\"web\",\"client_secret\":\"secret\",\"auth_methods\":[\"bearer\",\"password\"]," \
                "\"proof_of_possession_auth_methods_validation\":false"


static void
test_http(void)
{
    size_t       i;
    kb_str       name, value, detail;
    kb_str      *members[11];
    kb_facts     facts;
    kb_engine   *made, *forms, *sessions;
    kb_response  response;
    kb_decision  decision;

    struct {
        kb_http  http;
        uint8_t  more[64];
    } later;

    kb_http *const     http = &later.http;
    const char *const  expected[][2] = {
        { "cache-control", "no-store" },
        { "referrer-policy", "no-referrer" },
        { "content-security-policy", "default-src 'none'; frame-ancestors 'none'" },
        { "x-content-type-options", "nosniff" },
    };

    made = engine_with(&bare, GRANTS);
    forms = engine_with(&bare, GRANTS ",\"password_param_type\":[\"body\"]");
    sessions = engine_with(&bare, ",\"auth_methods\":[\"session\",\"bearer\"],"
                                  "\"session_secret\":\"0123456789abcdef0123456789abcdef\","
                                  "\"store_secret\":\"0123456789abcdef0123456789abcdef\"");

    CHECK_EQ(kb_engine_needs(NULL), 0);
    CHECK_EQ(kb_engine_needs(bare_engine), 0);
    CHECK_EQ(kb_engine_needs(made), KB_NEEDS_HTTP | KB_NEEDS_FETCH | KB_NEEDS_LOGIN);
    CHECK_EQ(kb_engine_needs(forms), KB_NEEDS_HTTP | KB_NEEDS_FORM | KB_NEEDS_FETCH | KB_NEEDS_LOGIN);
    CHECK_EQ(kb_engine_needs(sessions), KB_NEEDS_HTTP | KB_NEEDS_STORE | KB_NEEDS_LOGIN);

    /* Without it, nobody is let through: not even by a token. */

    facts = facts_of(&der, KB_CERT_DER);
    decision = old_allow();
    CHECK_EQ(kb_engine_decide(made, &facts, &decision), KB_E_ARGUMENT);
    CHECK(is_empty(&decision));

    memset(&later, 0, sizeof(later));
    facts.http = http;

    for (i = 0; i < SIZE_UP_TO(kb_http, form); i++) {
        http->struct_size = i;
        decision = old_allow();
        CHECK_EQ(kb_engine_decide(made, &facts, &decision), KB_E_ARGUMENT);
        CHECK(is_empty(&decision));
    }

    /* Who does not need it does not look at it. */

    decide(bare_engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);

    /* Its size, and that of a later header; all of it absent is none of it. */

    for (i = 0; i < 2; i++) {
        http->struct_size = i == 0 ? sizeof(*http) : sizeof(later);
        decide(made, &facts, &decision);
        CHECK_EQ(decision.step, KB_STEP_ALLOW);
        CHECK(decision.check != NULL);
        CHECK_EQ(kb_check_header(decision.check, 0, &name, &value), KB_OK);
        CHECK(str_is(name, "authorization") && value.len > 7 && memcmp(value.ptr, "Bearer ", 7) == 0);
        CHECK_EQ(kb_check_response_header(decision.check, 0, &name, &value), KB_E_RANGE);
        CHECK_EQ(kb_check_detail(decision.check, &detail), KB_OK);
        CHECK(detail.ptr == NULL);
        kb_check_free(decision.check);
    }

    /* What is too long to be real is not taken for absent. */

    members[0] = &http->method;
    members[1] = &http->host;
    members[2] = &http->target;
    members[3] = &http->cookie;
    members[4] = &http->accept;
    members[5] = &http->origin;
    members[6] = &http->fetch_site;
    members[7] = &http->fetch_mode;
    members[8] = &http->fetch_dest;
    members[9] = &http->refresh_token;
    members[10] = &http->form;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        members[i]->ptr = (const uint8_t *) "";
        members[i]->len = SIZE_MAX;
        decision = old_allow();
        CHECK_EQ(kb_engine_decide(made, &facts, &decision), KB_E_ARGUMENT);
        CHECK(is_empty(&decision));
        *members[i] = str_of(NULL);
    }

    /* A program that is refused gets JSON, and there is no more to it; a person gets a page, with headers. */

    facts = facts_of(&der, KB_CERT_DER);
    facts.authorization = str_of(NULL);
    facts.authorization_n = 0;
    facts.http = http;
    http->method = str_of("GET");
    http->host = str_of("api.example");
    http->target = str_of("/");
    check_refused(made, &facts, "no_token", 401);

    http->accept = str_of("text/html");
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK_EQ(decision.response.status, 401);
    CHECK(str_is(decision.response.content_type, "text/html; charset=utf-8"));
    CHECK(decision.check != NULL);
    CHECK_EQ(kb_check_step(decision.check), KB_STEP_RESPOND);

    /* Nothing of the facts is kept. */

    memset(&later, 0xa5, sizeof(later));
    CHECK_EQ(kb_check_response(decision.check, &response), KB_OK);
    CHECK(response.status == 401 && response.body.ptr == decision.response.body.ptr && response.body.len == decision.response.body.len);
    CHECK(response.body.len > 15 && memcmp(response.body.ptr, "<!doctype html>", 15) == 0);

    for (i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        CHECK_EQ(kb_check_response_header(decision.check, i, &name, &value), KB_OK);
        CHECK(str_is(name, expected[i][0]) && str_is(value, expected[i][1]));
    }

    fill(&name);
    fill(&value);
    CHECK_EQ(kb_check_response_header(decision.check, i, &name, &value), KB_E_RANGE);
    CHECK_EQ(kb_check_response_header(decision.check, SIZE_MAX, &name, &value), KB_E_RANGE);
    CHECK_EQ(kb_check_response_header(decision.check, 0, NULL, &value), KB_E_NULL);
    CHECK_EQ(kb_check_response_header(decision.check, 0, &name, NULL), KB_E_NULL);
    CHECK_EQ(kb_check_header(decision.check, 0, &name, &value), KB_E_STATE);
    CHECK(untouched(&name) && untouched(&value));
    kb_check_free(decision.check);

    kb_engine_free(sessions);
    kb_engine_free(forms);
    kb_engine_free(made);
}


/* All headers of a request, as a host has them: the decision is that of the members. */

static void
test_http_headers(void)
{
    size_t        i, k;
    kb_str       *members[7];
    kb_http       http;
    kb_facts      facts;
    kb_engine    *made;
    kb_header     headers[3];
    const char   *code;
    kb_decision   decision;

    static const struct {
        const char  *headers[3][2];
        const char  *code;
        int          is_page;
    } rows[] = {
        { { { NULL } }, "no_token", 0 },
        { { { "Accept", "text/html" } }, "no_token", 1 },
        { { { "ACCEPT", "text/html" } }, "no_token", 1 },
        { { { "accep", "text/html" }, { "accepts", "text/html" }, { "", "text/html" } }, "no_token", 0 },
        { { { "Accept", "application/json" }, { "X-Other", "x" }, { "accept", "text/html" } }, "no_token", 1 },
        { { { "Cookie", "a=b" } }, "no_token", 0 },
        { { { "Cookie", "__Host-session=x" } }, "session_invalid", 0 },
        { { { "Cookie", "a=b" }, { "cookie", "__Host-session=x" }, { "Cookie", "c=d" } }, "session_invalid", 0 },
        { { { "Cookie", "" }, { "Cookie", "__Host-session=x" } }, "session_invalid", 0 },
        { { { "Refresh-Token", "x" } }, NULL, 0 },
        { { { "refresh_token", "x" } }, NULL, 0 },
        { { { "Refresh-Token", "" } }, "no_token", 0 },
        { { { "Refresh-Token", "x" }, { "Refresh-Token", "x" } }, "credentials_malformed", 0 },
        { { { "Refresh-Token", "x" }, { "Refresh_Token", "y" } }, "credentials_malformed", 0 },
    };

    made = engine_with(&bare, ",\"client_id\":\"web\",\"client_secret\":\"secret\","
                              "\"auth_methods\":[\"session\",\"bearer\",\"refresh_token\"],"
                              "\"proof_of_possession_auth_methods_validation\":false,"
                              "\"session_secret\":\"0123456789abcdef0123456789abcdef\","
                              "\"store_secret\":\"0123456789abcdef0123456789abcdef\"");
    facts = facts_of(&der, KB_CERT_DER);
    facts.authorization = str_of(NULL);
    facts.authorization_n = 0;
    facts.http = &http;
    memset(&http, 0, sizeof(http));
    http.struct_size = sizeof(http);
    http.method = str_of("GET");
    http.host = str_of("api.example");
    http.target = str_of("/");
    http.headers = headers;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (k = 0; k < 3 && rows[i].headers[k][0] != NULL; k++) {
            headers[k].name = str_of(rows[i].headers[k][0]);
            headers[k].value = str_of(rows[i].headers[k][1]);
        }

        http.headers_n = k;
        decide(made, &facts, &decision);

        /* A refresh token is asked about. */

        CHECK(decision.step == (rows[i].code != NULL ? KB_STEP_RESPOND : KB_STEP_STORE));

        code = kb_reason_code(decision.reason);

        if (rows[i].code != NULL && (code == NULL || strcmp(code, rows[i].code) != 0)) {
            complain(code != NULL ? code : "no reason", __FILE__, __LINE__);
        }

        CHECK_EQ(decision.response.content_type.len > 4 && memcmp(decision.response.content_type.ptr, "text", 4) == 0,
                 rows[i].is_page);
        kb_check_free(decision.check);
    }

    /* None at all, and the header of a host that does not know of them. */

    headers[0].name = str_of("Cookie");
    headers[0].value = str_of("__Host-session=x");
    http.headers_n = 1;
    check_refused(made, &facts, "session_invalid", 401);
    http.struct_size = offsetof(kb_http, headers);
    check_refused(made, &facts, "no_token", 401);
    http.struct_size = sizeof(http);
    http.headers_n = 0;
    check_refused(made, &facts, "no_token", 401);
    http.headers = NULL;
    http.headers_n = 1;
    check_refused(made, &facts, "no_token", 401);

    /* Either these or the members. What is too long to be real is not taken for absent. */

    members[0] = &http.cookie;
    members[1] = &http.accept;
    members[2] = &http.origin;
    members[3] = &http.fetch_site;
    members[4] = &http.fetch_mode;
    members[5] = &http.fetch_dest;
    members[6] = &http.refresh_token;
    http.headers = headers;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        *members[i] = str_of("");
        check_invalid_with(made, &facts, KB_E_ARGUMENT);
        *members[i] = str_of(NULL);
    }

    headers[0].name.len = SIZE_MAX;
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    headers[0].name = str_of("Cookie");
    headers[0].value.len = SIZE_MAX;
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    headers[0].value = str_of("__Host-session=x");
    http.headers_n = SIZE_MAX;
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    http.headers_n = 1;
    check_refused(made, &facts, "session_invalid", 401);

    kb_engine_free(made);
}


/* What a proof is held against: each of the members, or all headers; and the numbers beside them. */

#define STORE_SECRET  ",\"store_secret\":\"0123456789abcdef0123456789abcdef\""
#define PROOFS  ",\"proof_of_possession_dpop\":\"optional\",\"public_origin\":\"https://api.example\"" STORE_SECRET


#define check_proof_refused(...)  FROM_HERE(check_proof_refused_(__VA_ARGS__))


/* What is told for the log may come with a refusal. */

static void
check_proof_refused_(const kb_engine *e, const kb_facts *facts, const char *code)
{
    kb_decision  decision;

    decide(e, facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_RESPOND);
    CHECK_EQ(decision.response.status, 401);
    CHECK(kb_reason_code(decision.reason) != NULL && strcmp(kb_reason_code(decision.reason), code) == 0);
    kb_check_free(decision.check);
}


static void
test_http_proof(void)
{
    size_t       i;
    kb_str      *members[9], proof, spent;
    uint8_t      name[40];
    kb_http      http;
    kb_facts     facts;
    kb_engine   *made, *behind, *named;
    kb_header    headers[3];
    kb_decision  decision;

    proof = str(&dpop_proof);
    made = engine_with(&bare, PROOFS);
    behind = engine_with(&bare, PROOFS ",\"trusted_ips\":[\"10.0.0.0/8\"]");
    named = engine_with(&bare, ",\"proof_of_possession_dpop\":\"optional\",\"trusted_ips\":[\"10.0.0.0/8\"]" STORE_SECRET);
    CHECK_EQ(kb_engine_needs(made), KB_NEEDS_HTTP | KB_NEEDS_STORE | KB_NEEDS_PROOF);

    facts = facts_of(&der, KB_CERT_DER);
    facts.authorization = str(&dpop_header);
    facts.http = &http;
    memset(&http, 0, sizeof(http));
    http.struct_size = sizeof(http);
    http.method = str_of("GET");
    http.host = str_of("api.example");
    http.target = str_of("/data?x=1");
    http.scheme = str_of("https");
    http.peer = str_of("192.0.2.1");
    http.dpop = proof;
    http.dpop_n = 1;

    /* As it should be, it only has to be noted. Without HTTP there is no decision. */

    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);
    facts.http = NULL;
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    facts.http = &http;

    /* Each of the members counts. */

    http.method = str_of("get");
    check_proof_refused(made, &facts, "proof_method_mismatch");
    http.method = str_of("GET");
    http.target = str_of("/other");
    check_proof_refused(made, &facts, "proof_uri_mismatch");
    http.target = str_of("/data");
    http.scheme = str_of("http");
    check_proof_refused(made, &facts, "proof_over_plain_http");
    http.scheme = str_of(NULL);
    check_proof_refused(made, &facts, "proof_over_plain_http");
    http.dpop_n = 2;
    http.scheme = str_of("https");
    check_proof_refused(made, &facts, "proof_repeated");
    http.dpop_n = UINT32_MAX;
    check_proof_refused(made, &facts, "proof_repeated");
    http.dpop = str_of("");
    check_proof_refused(made, &facts, "proof_repeated");
    http.dpop_n = 1;
    check_proof_refused(made, &facts, "proof_malformed");
    http.dpop = str_of(NULL);
    http.dpop_n = 0;
    check_proof_refused(made, &facts, "proof_missing");

    /* Forwarded headers of the proxy, and those of anybody. */

    http.dpop = proof;
    http.dpop_n = 1;
    http.scheme = str_of("http");
    http.forwarded_proto = str_of("https");
    check_proof_refused(behind, &facts, "proof_over_plain_http");
    http.peer = str_of("10.0.0.1");
    decide(behind, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);

    /* Without an origin of the operator's, the proxy names all of it. */

    check_proof_refused(named, &facts, "proof_uri_mismatch");
    http.forwarded_host = str_of("api.example");
    decide(named, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);
    http.forwarded_port = str_of("8443");
    check_proof_refused(named, &facts, "proof_uri_mismatch");
    http.forwarded_port = str_of("443");
    http.forwarded_prefix = str_of("/base");
    check_proof_refused(named, &facts, "proof_uri_mismatch");
    http.forwarded_prefix = str_of(NULL);
    http.forwarded_port = str_of(NULL);
    http.forwarded_host = str_of(NULL);

    /* Who forgot to count may have more than one, and a number is of something. What is not 0 is of a later header. */

    http.dpop_n = 0;
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    http.dpop = str_of("");
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    http.dpop = str_of(NULL);
    http.dpop_n = 1;
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    http.dpop = proof;
    http.dpop_n = 1;
    http.reserved = 1;
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    http.reserved = 0;

    /* The proof that a request used is held against the time of then: that very proof, and of that very time. */

    decide(behind, &facts, &decision);
    CHECK_EQ(kb_check_spent(decision.check, &spent), KB_E_STATE);
    CHECK_EQ(kb_check_stored(decision.check, facts.now_s, KB_STORED, str_of(NULL)), KB_OK);
    CHECK_EQ(kb_check_spent(decision.check, &spent), KB_OK);
    CHECK_EQ(spent.len, sizeof(name));
    memcpy(name, spent.ptr, spent.len);
    CHECK_EQ(kb_check_spent(decision.check, NULL), KB_E_NULL);
    CHECK_EQ(kb_check_spent(NULL, &spent), KB_E_NULL);
    kb_check_free(decision.check);

    spent.ptr = name;
    spent.len = sizeof(name);
    facts.now_s += 61;
    http.spent = spent;
    decide(behind, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);

    for (i = 0; i < sizeof(name); i++) {
        name[i] ^= 0x80;
        check_proof_refused(behind, &facts, "proof_expired");
        name[i] ^= 0x80;
    }

    for (http.spent.len = 0; http.spent.len < sizeof(name); http.spent.len++) {
        check_proof_refused(behind, &facts, "proof_expired");
    }

    http.spent = str_of(NULL);
    check_proof_refused(behind, &facts, "proof_expired");
    facts.now_s -= 61;

    /* A host of before, whatever is in the bytes behind its struct: it has no proof, and no TLS. */

    http.struct_size = offsetof(kb_http, scheme);
    check_proof_refused(made, &facts, "proof_missing");
    http.struct_size = SIZE_UP_TO(kb_http, form);
    check_proof_refused(made, &facts, "proof_missing");
    http.struct_size = offsetof(kb_http, dpop_n);
    check_invalid_with(made, &facts, KB_E_ARGUMENT);
    http.struct_size = sizeof(http);

    /* What is too long to be real is not taken for absent. */

    members[0] = &http.scheme;
    members[1] = &http.peer;
    members[2] = &http.request;
    members[3] = &http.spent;
    members[4] = &http.forwarded_proto;
    members[5] = &http.forwarded_host;
    members[6] = &http.forwarded_port;
    members[7] = &http.forwarded_prefix;
    members[8] = &http.dpop;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        kb_str  before = *members[i];

        members[i]->ptr = (const uint8_t *) "";
        members[i]->len = SIZE_MAX;
        check_invalid_with(made, &facts, KB_E_ARGUMENT);
        *members[i] = before;
    }

    /* All headers, as they came. */

    http.scheme = str_of("https");
    http.forwarded_proto = str_of(NULL);
    http.dpop = str_of(NULL);
    http.dpop_n = 0;
    http.headers = headers;
    http.headers_n = 1;
    headers[0].name = str_of("dPoP");
    headers[0].value = proof;
    headers[1] = headers[0];
    headers[1].name = str_of("DPoP");
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);

    http.headers_n = 2;
    check_proof_refused(made, &facts, "proof_repeated");
    headers[1].value = str_of("");
    check_proof_refused(made, &facts, "proof_repeated");
    headers[1].name = str_of("D_PoP");
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);
    http.headers_n = 0;
    check_proof_refused(made, &facts, "proof_missing");

    /* A token for a proxy is none for the gateway (RFC 9449 section 7.1). */

    facts.authorization = str_of(NULL);
    facts.authorization_n = 0;
    headers[1].name = str_of("Proxy-Authorization");
    headers[1].value = str(&dpop_header);
    http.headers_n = 2;
    check_proof_refused(made, &facts, "no_token");
    facts.authorization = str(&dpop_header);
    facts.authorization_n = 1;

    /* Two proxies that say something are a list, and a list is no scheme. */

    http.scheme = str_of("http");
    headers[1].name = str_of("X-Forwarded-Proto");
    headers[1].value = str_of("https");
    decide(behind, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);
    headers[2].name = str_of("x-forwarded-proto");
    headers[2].value = str_of("https");
    http.headers_n = 3;
    check_proof_refused(behind, &facts, "proof_over_plain_http");

    /* In the other spelling the proxy let it through as the client sent it. */

    headers[2].name = str_of("X_Forwarded_Proto");
    headers[2].value = str_of("http");
    decide(behind, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);
    kb_check_free(decision.check);
    http.headers_n = 2;
    headers[1].name = str_of("X-Forwarded_Proto");
    check_proof_refused(behind, &facts, "proof_over_plain_http");

    /* Either these or the members, and their number. */

    for (i = 4; i < sizeof(members) / sizeof(members[0]); i++) {
        *members[i] = str_of("");
        http.dpop_n = i == 8;
        check_invalid_with(behind, &facts, KB_E_ARGUMENT);
        *members[i] = str_of(NULL);
    }

    http.dpop_n = 1;
    check_invalid_with(behind, &facts, KB_E_ARGUMENT);

    /* The token is no bearer token; and where no proof is taken, there is no such scheme. */

    http.headers_n = 2;
    http.dpop_n = 0;
    facts.authorization = str(&dpop_bearer);
    check_proof_refused(behind, &facts, "dpop_scheme_required");

    /* No proof is looked for where the scheme is another: not even for what is wrong with it. */

    http.reserved = 1;
    check_proof_refused(behind, &facts, "dpop_scheme_required");
    http.reserved = 0;
    facts.http = NULL;
    check_proof_refused(behind, &facts, "dpop_scheme_required");
    facts.http = &http;
    facts.authorization = str(&dpop_header);
    check_refused(bare_engine, &facts, "no_token", 401);

    kb_engine_free(named);
    kb_engine_free(behind);
    kb_engine_free(made);
}


/* A store may not forget a session, as it may a document. */

static void
test_stored_session(void)
{
    kb_http       http;
    kb_facts      facts;
    kb_store      store;
    kb_engine    *made;
    kb_decision   decision;

    made = engine_with(&bare, ",\"auth_methods\":[\"session\",\"bearer\"],\"session_storage\":\"store\","
                              "\"session_secret\":\"0123456789abcdef0123456789abcdef\","
                              "\"store_secret\":\"0123456789abcdef0123456789abcdef\"");
    memset(&http, 0, sizeof(http));
    http.struct_size = sizeof(http);
    http.method = str_of("GET");
    http.host = str_of("api.example");
    http.target = str_of("/");
    facts = facts_of(&der, KB_CERT_DER);
    facts.http = &http;
    decide(made, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_STORE);

    memset(&store, 0, sizeof(store));
    store.struct_size = sizeof(store);
    CHECK_EQ(kb_check_store(decision.check, &store), KB_OK);
    CHECK_EQ(store.operation, KB_STORE_PUT);
    CHECK_EQ(store.flags, 0);
    CHECK_EQ(store.ttl_s, 900);
    kb_check_free(decision.check);
    kb_engine_free(made);
}


static void
test_no_openssl(void)
{
    int        place;
    uint8_t    out[KB_THUMBPRINT_SIZE];
    kb_facts   facts;
    kb_trust  *trust;

    CHECK_EQ(kb_ssl_supported(), 0);
    CHECK_EQ(kb_ssl_asks_certificate(&place), KB_E_NO_OPENSSL);
    CHECK_EQ(kb_ssl_asks_certificate(NULL), KB_E_NULL);

    fill(&out);
    CHECK_EQ(kb_ssl_thumbprint(&place, &out), KB_E_NO_OPENSSL);
    CHECK_EQ(kb_ssl_thumbprint(NULL, &out), KB_E_NULL);
    CHECK(untouched(&out));

    facts = facts_of(NULL, KB_CERT_NONE);
    facts.ssl = &place;
    check_invalid(&facts, KB_E_NO_OPENSSL);

    fill(&trust);
    CHECK_EQ(kb_trust_new((const uint8_t *) "x", 1, &trust, NULL, 0, NULL), KB_E_NO_OPENSSL);
    CHECK(untouched(&trust));
    kb_trust_free(NULL);
    CHECK_EQ(kb_tls_verify(NULL, &place, NULL, 0, NULL, 0, NULL), KB_E_NO_OPENSSL);
    CHECK_EQ(kb_tls_pair(&place, &place), KB_E_NO_OPENSSL);
}


/* What a check answers that is allowed, whoever asks. */

static void
check_allowed_(kb_check *check)
{
    kb_str        s, name, value;
    kb_fetch      fetch;
    kb_store      store;
    kb_response   response;
    kb_exchange  *exchange;

    CHECK_EQ(kb_check_step(check), KB_STEP_ALLOW);
    CHECK_EQ(kb_check_reason(check), KB_REASON_ALLOWED);

    CHECK_EQ(kb_check_claims(check, &s), KB_OK);
    CHECK(s.len > 30 && memcmp(s.ptr, "{\"iss\":\"https://as.example\",", 28) == 0);

    CHECK_EQ(kb_check_header(check, 0, &name, &value), KB_OK);
    CHECK(str_is(name, "X-Client-Id") && str_is(value, "app"));
    CHECK_EQ(kb_check_header(check, 1, &name, &value), KB_OK);
    CHECK(str_is(name, "X-Absent") && value.ptr == NULL);

    fill(&name);
    fill(&value);
    CHECK_EQ(kb_check_header(check, 2, &name, &value), KB_E_RANGE);
    CHECK_EQ(kb_check_header(check, SIZE_MAX, &name, &value), KB_E_RANGE);
    CHECK_EQ(kb_check_header(check, 0, &name, NULL), KB_E_NULL);
    CHECK_EQ(kb_check_header(check, 0, NULL, &value), KB_E_NULL);
    CHECK_EQ(kb_check_response_header(check, 0, &name, &value), KB_E_RANGE);
    CHECK_EQ(kb_check_fetch_header(check, 0, &name, &value), KB_E_STATE);
    CHECK_EQ(kb_check_fetch_header(check, 0, NULL, &value), KB_E_NULL);
    CHECK(untouched(&name) && untouched(&value));
    CHECK_EQ(kb_check_claims(check, NULL), KB_E_NULL);

    CHECK_EQ(kb_check_detail(check, &s), KB_OK);
    CHECK(s.ptr == NULL);

    fill(&fetch);
    fill(&store);
    fill(&response);
    fill(&exchange);
    CHECK_EQ(kb_check_fetch(check, &fetch), KB_E_STATE);
    CHECK_EQ(kb_check_store(check, &store), KB_E_STATE);
    CHECK_EQ(kb_check_response(check, &response), KB_E_STATE);
    CHECK_EQ(kb_exchange_new(check, &exchange), KB_E_STATE);
    CHECK(untouched(&fetch) && untouched(&store) && untouched(&response) && untouched(&exchange));
    CHECK(kb_check_fetch(check, NULL) < 0);
    CHECK(kb_check_fetch_header(check, 0, &name, NULL) < 0);
    CHECK(kb_check_store(check, NULL) < 0);
    CHECK(kb_check_response(check, NULL) < 0);
}


static void
test_check(void)
{
    kb_str       absent, value;
    uint32_t     i;
    kb_facts     facts;
    kb_answer    answer;
    kb_decision  decision;

    facts = facts_of(&der, KB_CERT_DER);
    decide(engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    CHECK_EQ(decision.reason, KB_REASON_ALLOWED);
    CHECK(decision.check != NULL);
    check_allowed(decision.check);

    /* Answers that nobody asked for change nothing. */

    absent = str_of(NULL);
    value = str_of("{\"active\":true}");

    memset(&answer, 0, sizeof(answer));
    answer.struct_size = sizeof(answer);
    answer.body = value;

    for (i = KB_FETCH_RESOLVE; i <= KB_FETCH_BUSY; i++) {
        answer.outcome = i;
        CHECK_EQ(kb_check_fetched(decision.check, NOW, &answer), KB_E_STATE);
    }

    answer.outcome = KB_FETCH_ANSWERED;
    answer.status = 200;
    CHECK_EQ(kb_check_fetched(decision.check, NOW, &answer), KB_E_STATE);

    for (i = KB_STORED; i <= KB_STORE_FAILED; i++) {
        CHECK_EQ(kb_check_stored(decision.check, NOW, i, value), KB_E_STATE);
    }

    CHECK_EQ(kb_check_stored(decision.check, NOW, KB_STORE_FOUND, absent), KB_E_NULL);
    CHECK_EQ(kb_check_stored(decision.check, NOW, 0, value), KB_E_ARGUMENT);
    CHECK_EQ(kb_check_stored(decision.check, NOW, KB_STORE_FAILED + 1, value), KB_E_ARGUMENT);
    CHECK_EQ(kb_check_stored(decision.check, NOW, 256 + KB_STORED, value), KB_E_ARGUMENT);
    CHECK_EQ(kb_check_stored(decision.check, NOW, UINT32_MAX, value), KB_E_ARGUMENT);

    check_allowed(decision.check);
    kb_check_free(decision.check);

    /* A refusal has no check. */

    facts = facts_of(&other, KB_CERT_DER);
    check_refused(engine, &facts, "certificate_mismatch", 401);
    facts.flags = KB_WANT_CLAIMS;
    check_refused(bare_engine, &facts, "certificate_mismatch", 401);

    /* Without headers, claims are there where they are wanted. */

    facts = facts_of(&der, KB_CERT_DER);
    facts.flags = KB_WANT_CLAIMS;
    decide(bare_engine, &facts, &decision);
    CHECK_EQ(decision.step, KB_STEP_ALLOW);
    CHECK_EQ(kb_check_claims(decision.check, &value), KB_OK);
    CHECK_EQ(kb_check_header(decision.check, 0, &absent, &value), KB_E_RANGE);
    kb_check_free(decision.check);
}


static void
test_check_null(void)
{
    kb_str       name, value;
    kb_fetch     fetch;
    kb_store     store;
    kb_answer    answer;
    kb_response  response;

    CHECK_EQ(kb_check_step(NULL), KB_STEP_INVALID);
    CHECK_EQ(kb_check_reason(NULL), 0);

    fill(&name);
    fill(&value);
    fill(&fetch);
    fill(&store);
    fill(&response);
    CHECK_EQ(kb_check_response(NULL, &response), KB_E_NULL);
    CHECK_EQ(kb_check_claims(NULL, &value), KB_E_NULL);
    CHECK_EQ(kb_check_claim(NULL, (const uint8_t *) "sub", 3, &value), KB_E_NULL);
    CHECK_EQ(kb_check_header(NULL, 0, &name, &value), KB_E_NULL);
    CHECK_EQ(kb_check_fetch(NULL, &fetch), KB_E_NULL);
    CHECK_EQ(kb_check_fetch_header(NULL, 0, &name, &value), KB_E_NULL);
    CHECK_EQ(kb_check_store(NULL, &store), KB_E_NULL);
    memset(&answer, 0, sizeof(answer));
    answer.struct_size = sizeof(answer);
    answer.outcome = KB_FETCH_CONNECT;
    CHECK_EQ(kb_check_fetched(NULL, NOW, &answer), KB_E_NULL);
    CHECK_EQ(kb_check_detail(NULL, &value), KB_E_NULL);
    CHECK_EQ(kb_check_stored(NULL, NOW, KB_STORED, str_of("b")), KB_E_NULL);
    CHECK(untouched(&name) && untouched(&value) && untouched(&fetch) && untouched(&store) && untouched(&response));

    kb_check_free(NULL);
    kb_engine_free(NULL);
    kb_verifier_free(NULL);
    kb_claims_free(NULL);
}


static void
test_freed_engine(void)
{
    kb_facts      facts;
    kb_engine    *made;
    kb_decision   decision;

    CHECK_EQ(kb_engine_new(config.bytes, config.len, &made, NULL, 0, NULL), KB_OK);
    facts = facts_of(&pem, KB_CERT_PEM);
    decide(made, &facts, &decision);
    kb_engine_free(made);

    check_allowed(decision.check);
    kb_check_free(decision.check);
}


/* Nothing of the inputs is kept: what they hold later changes nothing. */

static void
test_inputs_are_borrowed(void)
{
    int            i;
    kb_str         json;
    data_t         text, header_copy, cert;
    kb_facts       facts;
    kb_engine     *made;
    kb_decision    decision;

    text = config;
    CHECK_EQ(kb_engine_new(text.bytes, text.len, &made, NULL, 0, NULL), KB_OK);
    fill(&text.bytes);

    for (i = 0; i < 2; i++) {
        header_copy = header;
        cert = der;
        facts = facts_of(&cert, KB_CERT_DER);
        facts.authorization = str(&header_copy);
        decide(made, &facts, &decision);
        fill(&header_copy.bytes);
        fill(&cert.bytes);
        fill(&facts);

        check_allowed(decision.check);
        CHECK_EQ(kb_check_claims(decision.check, &json), KB_OK);
        kb_check_free(decision.check);

        /* In the same place now lies another certificate. */

        cert = other;
        facts = facts_of(&cert, KB_CERT_DER);
        check_refused(made, &facts, "certificate_mismatch", 401);
    }

    kb_engine_free(made);
}


#define THREADS  4
#define ROUNDS   300


static void *
decide_often(void *wrong)
{
    int          i;
    uint32_t     step;
    kb_facts     facts;
    kb_decision  decision;

    for (i = 0; i < ROUNDS; i++) {
        facts = facts_of(i % 3 ? &der : &other, KB_CERT_DER);
        facts.flags = i % 2 ? KB_WANT_CLAIMS : 0;
        decision = old_allow();

        if (kb_engine_decide(bare_engine, &facts, &decision) != KB_OK) {
            (*(int *) wrong)++;
            continue;
        }

        step = i % 3 ? KB_STEP_ALLOW : KB_STEP_RESPOND;
        *(int *) wrong += decision.step != step;
        kb_check_free(decision.check);
    }

    return NULL;
}


static void
test_threads(void)
{
    int        i, wrong[THREADS] = { 0 };
    pthread_t  threads[THREADS];

    for (i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, decide_often, &wrong[i]) != 0) {
            exit(3);
        }
    }

    for (i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(wrong[i], 0);
    }
}


int
main(int argc, char **argv)
{
    if (argc != 2) {
        return 3;
    }

    directory = argv[1];
    load("config.json", &config);
    load("bare.json", &bare);
    load("allow.token", &token);
    load("allow.header", &header);
    load("unbound.token", &unbound);
    load("client.pem", &pem);
    load("client.der", &der);
    load("other.der", &other);
    load("rfc8705.pem", &rfc8705_pem);
    load("rfc8705.der", &rfc8705_der);
    load("dpop.header", &dpop_header);
    load("dpop-bearer.header", &dpop_bearer);
    load("dpop.proof", &dpop_proof);

    if (check_abi() != 0
        || kb_engine_new(config.bytes, config.len, &engine, NULL, 0, NULL) != KB_OK
        || kb_engine_new(bare.bytes, bare.len, &bare_engine, NULL, 0, NULL) != KB_OK
        || kb_verifier_new(config.bytes, config.len, &verifier, NULL, 0, NULL) != KB_OK)
    {
        return 3;
    }

    run_test("version, ABI and status texts", test_library);
    run_test("reason codes", test_reasons);
    run_test("kb_certificate_thumbprint: RFC 8705 appendix A, wrong arguments", test_certificate_thumbprint);
    run_test("kb_jwk_thumbprint: RFC 7638 section 3.1, wrong arguments", test_jwk_thumbprint);
    run_test("kb_confirmation_match", test_confirmation_match);
    run_test("kb_verifier_new: errors, and a message cut to fit", test_verifier_new);
    run_test("kb_engine_new: errors, and a message cut to fit", test_engine_new);
    run_test("kb_engine_new_with: in place of an option, or where there is none", test_settings_place);
    run_test("kb_engine_new_with: arrays, numbers, booleans", test_settings_types);
    run_test("kb_engine_new_with: errors, and a message cut to fit", test_settings_errors);
    run_test("kb_verifier_verify", test_verifier_verify);
    run_test("claims outlive the verifier", test_claims);
    run_test("warnings and upstream headers of an engine", test_engine_lists);
    run_test("the answer to a refusal of the host's own", test_engine_response);
    run_test("report_only: what would be refused passes", test_report_only);
    run_test("headers that are removed, and headers for the client", test_headers);
    run_test("kb_engine_decide: decisions, new and remembered", test_decide);
    run_test("a certificate in the wrong form, new and remembered", test_form);
    run_test("kb_engine_decide: wrong arguments, and no old decision stays", test_decide_arguments);
    run_test("structs of a later header", test_larger_structs);
    run_test("kb_http: who needs it, its size, and headers of an answer", test_http);
    run_test("kb_http.headers: all headers in place of some members", test_http_headers);
    run_test("kb_http: what a proof is held against", test_http_proof);
    run_test("a session in the store is not to be forgotten", test_stored_session);
    run_test("no OpenSSL in the process", test_no_openssl);
    run_test("an allowed check: claims, headers, answers nobody asked for", test_check);
    run_test("checks that are NULL", test_check_null);
    run_test("a check outlives its engine", test_freed_engine);
    run_test("inputs are borrowed", test_inputs_are_borrowed);
    run_test("one engine, several threads", test_threads);

    kb_verifier_free(verifier);
    kb_engine_free(bare_engine);
    kb_engine_free(engine);

    return tests_failed ? 1 : 0;
}
