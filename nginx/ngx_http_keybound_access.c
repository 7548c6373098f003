/*
 * A request on its way: decided about, refused or let through with its headers, and what variables say of it.
 */

#include "ngx_http_keybound.h"


/* More steps than any check has: an error would be a loop that never ends. */

#define NGX_HTTP_KEYBOUND_MAX_STEPS  512


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static void
ngx_http_keybound_reset(ngx_http_keybound_ctx_t *ctx)
{
    ngx_http_keybound_leave(ctx);

    if (ctx->wake.timer_set) {
        ngx_del_timer(&ctx->wake);
    }

    if (ctx->wake.posted) {
        ngx_delete_posted_event(&ctx->wake);
    }

    kb_check_free(ctx->check);
    ctx->check = NULL;
    ctx->step = 0;
    ctx->reason = 0;
    ctx->waiting = 0;
    ctx->delayed = 0;
}


static void
ngx_http_keybound_cleanup(void *data)
{
    ngx_http_keybound_reset(data);
}


/* nginx forgets contexts where it redirects a request internally: a cleanup remembers this one. */

static ngx_http_keybound_ctx_t *
ngx_http_keybound_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_keybound_ctx_t  *ctx = ngx_http_get_module_ctx(r, ngx_http_keybound_module);

    if (ctx || !(r->internal || r->filter_finalize)) {
        return ctx;
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_keybound_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


/* Waiting is over: the request goes on where it was. */

static void
ngx_http_keybound_wake_handler(ngx_event_t *ev)
{
    ngx_connection_t         *c;
    ngx_http_request_t       *r;
    ngx_http_keybound_ctx_t  *ctx = ev->data;

    if (ev->timedout) {
        ev->timedout = 0;

        if (ctx->flight) {
            ngx_http_keybound_fetch_timeout(ctx);
            return;
        }
    }

    ctx->waiting = 0;
    r = ctx->request;
    c = r->connection;
    ngx_http_set_log_request(c->log, r);

    r->write_event_handler(r);
    ngx_http_run_posted_requests(c);
}


void
ngx_http_keybound_wait(ngx_http_keybound_ctx_t *ctx, ngx_msec_t timeout)
{
    ctx->waiting = 1;
    ngx_add_timer(&ctx->wake, timeout);
}


void
ngx_http_keybound_wake(ngx_http_keybound_ctx_t *ctx)
{
    if (ctx->wake.timer_set) {
        ngx_del_timer(&ctx->wake);
    }

    ngx_post_event(&ctx->wake, &ngx_posted_events);
}


/* Before any module can let the request through: each pass begins anew, and what only keybound may say of a client comes from no client. */

ngx_int_t
ngx_http_keybound_preaccess_handler(ngx_http_request_t *r)
{
    kb_str                         name, none = { NULL, 0 };
    ngx_uint_t                     i;
    ngx_pool_cleanup_t            *cln;
    ngx_http_keybound_ctx_t       *ctx;
    ngx_http_keybound_loc_conf_t  *klcf;

    if (r != r->main) {
        return ngx_http_keybound_fetch_check(r);
    }

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_keybound_module);

    if (klcf->engine == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_keybound_ctx(r);

    if (ctx == NULL) {
        cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_keybound_ctx_t));
        if (cln == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx = cln->data;
        ngx_memzero(ctx, sizeof(ngx_http_keybound_ctx_t));
        cln->handler = ngx_http_keybound_cleanup;
        ctx->request = r;
        ctx->wake.handler = ngx_http_keybound_wake_handler;
        ctx->wake.data = ctx;
        ctx->wake.log = r->connection->log;

    } else {
        ngx_http_keybound_reset(ctx);
        ngx_http_keybound_restore_headers(ctx);
    }

    ctx->engine = klcf->engine;
    ngx_http_set_ctx(r, ctx, ngx_http_keybound_module);

    for (i = 0; i < ctx->engine->headers; i++) {
        if (kb_engine_upstream_header(ctx->engine->engine, i, &name) != KB_OK || ngx_http_keybound_set_header(ctx, name, none) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (ctx->changed || r->internal) {
        ngx_http_keybound_forget_variables(r);
    }

    return NGX_DECLINED;
}


/* Whether nginx itself refused the certificate: the request is here only because error_page led here. */

static ngx_int_t
ngx_http_keybound_certificate_refused(ngx_http_request_t *r)
{
    long                      rc;
    uint8_t                   thumbprint[KB_THUMBPRINT_SIZE];
    const char               *s;
    ngx_http_ssl_srv_conf_t  *sscf = ngx_http_get_module_srv_conf(r, ngx_http_ssl_module);

    if (r->err_status == NGX_HTTPS_CERT_ERROR || r->err_status == NGX_HTTPS_NO_CERT) {
        return 1;
    }

    if (!sscf->verify || r->connection->ssl == NULL) {
        return 0;
    }

    /* With `=`, error_page leaves no status behind. */

    rc = SSL_get_verify_result(r->connection->ssl->connection);

    return (rc != X509_V_OK && (sscf->verify != 3 || !ngx_ssl_verify_error_optional(rc)))
           || (sscf->verify == 1 && kb_ssl_thumbprint(r->connection->ssl->connection, &thumbprint) != KB_OK)
           || ngx_ssl_ocsp_get_status(r->connection, &s) != NGX_OK;
}


static ngx_int_t
ngx_http_keybound_decide(ngx_http_request_t *r, ngx_http_keybound_ctx_t *ctx)
{
    kb_http                         http, *given = NULL;
    int32_t                         rc;
    kb_facts                        facts;
    kb_decision                     decision;
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_get_module_main_conf(r, ngx_http_keybound_module);

    if (r->internal && ngx_http_keybound_certificate_refused(r)) {
        ctx->step = KB_STEP_RESPOND;
        ctx->reason = KB_REASON_CERTIFICATE_REFUSED;
        return kb_engine_response(ctx->engine->engine, ctx->reason, &ctx->response);
    }

    ngx_http_keybound_init(facts);
    ngx_http_keybound_init(decision);
    facts.flags = kmcf->flags;

    if (ctx->engine->needs & KB_NEEDS_HTTP) {
        ngx_http_keybound_init(http);
        given = &http;
    }

    if (ngx_http_keybound_facts(ctx, &facts, given) != NGX_OK) {
        return KB_E_NULL;
    }

    rc = kb_engine_decide(ctx->engine->engine, &facts, &decision);
    ctx->check = decision.check;
    ctx->step = decision.step;
    ctx->reason = decision.reason;
    ctx->token_id = decision.token_id;
    ctx->response = decision.response;

    return rc;
}


/* Takes the steps of a check until it is decided. NGX_OK: it is; NGX_AGAIN: the request waits. */

static ngx_int_t
ngx_http_keybound_steps(ngx_http_keybound_ctx_t *ctx)
{
    kb_store    store;
    ngx_uint_t  i;

    ngx_http_keybound_init(store);

    for (i = 0; i < NGX_HTTP_KEYBOUND_MAX_STEPS; i++) {
        ctx->step = kb_check_step(ctx->check);

        switch (ctx->step) {

        case KB_STEP_RESPOND:
            ctx->reason = kb_check_reason(ctx->check);
            return kb_check_response(ctx->check, &ctx->response) == KB_OK ? NGX_OK : NGX_ERROR;

        case KB_STEP_ALLOW:
            ctx->reason = kb_check_reason(ctx->check);
            return NGX_OK;

        case KB_STEP_FETCH:
            return ngx_http_keybound_fetch(ctx);

        case KB_STEP_STORE:
            if (kb_check_store(ctx->check, &store) != KB_OK) {
                return NGX_ERROR;
            }

            if (store.delay_ms && !ctx->delayed) {
                ctx->delayed = 1;
                ngx_http_keybound_wait(ctx, store.delay_ms);
                return NGX_AGAIN;
            }

            ctx->delayed = 0;

            if (ngx_http_keybound_store(ctx, &store) != KB_OK) {
                return NGX_ERROR;
            }

            break;

        default:
            return NGX_ERROR;
        }
    }

    return NGX_ERROR;
}


static void
ngx_http_keybound_log(ngx_http_request_t *r, ngx_http_keybound_ctx_t *ctx, ngx_uint_t level, char *what)
{
    u_char                          token[9], status[sizeof(", status=999")];
    kb_str                          text = { NULL, 0 };
    ngx_str_t                       detail;
    ngx_http_variable_value_t      *id;
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_get_module_main_conf(r, ngx_http_keybound_module);

    id = ngx_http_get_indexed_variable(r, kmcf->request_id);
    id = id ? id : &ngx_http_variable_null_value;

    if (ctx->check) {
        (void) kb_check_detail(ctx->check, &text);
    }

    ngx_http_keybound_from(detail, text);

    /* What a logout could not revoke is for the operator. */

    if (detail.len && ngx_strcmp(kb_reason_code(ctx->reason), "logged_out") == 0) {
        level = NGX_LOG_WARN;
    }

    *ngx_sprintf(token, ctx->token_id ? "%08xD" : "-", ctx->token_id) = '\0';
    *ngx_sprintf(status, ctx->step == KB_STEP_RESPOND ? ", status=%uD" : "", ctx->response.status) = '\0';

    ngx_log_error(level, r->connection->log, 0, "keybound: %s, reason=%s%s, token=%s, request_id=%v%s%V", what,
                  kb_reason_code(ctx->reason), status, token, id, detail.len ? ", detail=" : "", &detail);
}


/* Takes a header out of the response; cookies stay. */

static void
ngx_http_keybound_unsay(ngx_http_request_t *r, kb_str name)
{
    kb_str            cookie = ngx_http_keybound_text("set-cookie");
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    ngx_http_keybound_each(h, part, &r->headers_out.headers) {
        if (ngx_http_keybound_is(&h->key, name) && !ngx_http_keybound_is(&h->key, cookie)) {
            h->hash = 0;
        }
    }
}


/* Sets a header of the response, whatever is there under its name; cookies are added. */

static ngx_table_elt_t *
ngx_http_keybound_say(ngx_http_request_t *r, kb_str name, kb_str value)
{
    ngx_table_elt_t  *h;

    ngx_http_keybound_unsay(r, name);

    h = ngx_list_push(&r->headers_out.headers);

    if (h) {
        ngx_memzero(h, sizeof(ngx_table_elt_t));
    }

    return h && ngx_http_keybound_header(r->pool, h, name, value) == NGX_OK ? h : NULL;
}


/* Whether error_page has something for a status, as in ngx_http_special_response_handler(). */

static ngx_uint_t
ngx_http_keybound_has_page(ngx_http_request_t *r, ngx_http_core_loc_conf_t *clcf, ngx_int_t status)
{
    ngx_uint_t            i;
    ngx_http_err_page_t  *page;

    if (r->error_page || clcf->error_pages == NULL || r->uri_changes == 0) {
        return 0;
    }

    for (page = clcf->error_pages->elts, i = 0; i < clcf->error_pages->nelts; i++) {
        if (page[i].status == status) {
            return 1;
        }
    }

    return 0;
}


/* Answers the client; or lets nginx do it where it is its turn: other access checks, pages of the operator, redirects, auth_delay. */

static ngx_int_t
ngx_http_keybound_respond(ngx_http_request_t *r, ngx_http_keybound_ctx_t *ctx)
{
    u_char                     seconds[NGX_INT32_LEN];
    kb_str                     text, challenge = ngx_http_keybound_text("WWW-Authenticate"), retry = ngx_http_keybound_text("Retry-After");
    kb_str                     cache = ngx_http_keybound_text("Cache-Control"), no_store = ngx_http_keybound_text("no-store");
    ngx_str_t                  type;
    ngx_int_t                  status = ctx->response.status;
    kb_response               *response = &ctx->response;
    ngx_table_elt_t           *h = NULL;
    ngx_http_complex_value_t   cv;
    ngx_http_core_loc_conf_t  *clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_http_keybound_log(r, ctx, status >= 400 ? NGX_LOG_WARN : NGX_LOG_NOTICE, status >= 400 ? "refused" : "answered");

    if (response->www_authenticate.ptr) {
        h = ngx_http_keybound_say(r, challenge, response->www_authenticate);
        if (h == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        r->headers_out.www_authenticate = h;
    }

    if (clcf->satisfy != NGX_HTTP_SATISFY_ALL && (status == NGX_HTTP_UNAUTHORIZED || status == NGX_HTTP_FORBIDDEN)) {
        ctx->challenge = h;
        return status;
    }

    if (response->retry_after_s) {
        text.ptr = seconds;
        text.len = ngx_sprintf(seconds, "%uD", response->retry_after_s) - seconds;
        (void) ngx_http_keybound_say(r, retry, text);
    }

    (void) ngx_http_keybound_say(r, cache, no_store);

    /* The Location is there in the header filter only, where msie_refresh would not see it. */

    r->headers_in.msie = 0;

    if ((status >= 300 && status < 400) || ngx_http_keybound_has_page(r, clcf, status)
        || (status == NGX_HTTP_UNAUTHORIZED && clcf->auth_delay))
    {
        return status;
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    if (ngx_http_keybound_copy(r->pool, &type, response->content_type) != NGX_OK
        || ngx_http_keybound_copy(r->pool, &cv.value, response->body) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* It is sent: whatever came of that, the request does not go on. An error that led here has another status. */

    r->err_status = 0;
    r->expect_tested = 1;
    ngx_http_finalize_request(r, ngx_http_send_response(r, status, &type, &cv));

    return NGX_DONE;
}


static ngx_int_t
ngx_http_keybound_allow(ngx_http_request_t *r, ngx_http_keybound_ctx_t *ctx)
{
    kb_str      name, value;
    ngx_uint_t  i;

    if (ctx->reason != KB_REASON_ALLOWED) {
        if (!ctx->engine->report) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_http_keybound_log(r, ctx, NGX_LOG_WARN, "reported");
        return NGX_DECLINED;
    }

    if (kb_check_spent(ctx->check, &value) == KB_OK && value.ptr && value.len <= sizeof(ctx->spent)) {
        ngx_memcpy(ctx->spent, value.ptr, value.len);
        ctx->spent_len = value.len;
    }

    if (ngx_http_keybound_drop_proof(ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->check) {
        if (kb_check_detail(ctx->check, &value) == KB_OK && value.ptr) {
            ngx_http_keybound_log(r, ctx, NGX_LOG_NOTICE, "note");
        }

        for (i = 0; kb_check_header(ctx->check, i, &name, &value) == KB_OK; i++) {
            if (ngx_http_keybound_set_header(ctx, name, value) != NGX_OK) {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }
        }

        if (i) {
            ngx_http_keybound_forget_variables(r);
        }
    }

    /* Where it only reports, it has no say in `satisfy any` either. */

    return ctx->engine->report ? NGX_DECLINED : NGX_OK;
}


ngx_int_t
ngx_http_keybound_access_handler(ngx_http_request_t *r)
{
    int32_t                        status = KB_OK;
    ngx_int_t                      rc = NGX_OK;
    ngx_http_keybound_ctx_t       *ctx;
    ngx_http_keybound_loc_conf_t  *klcf = ngx_http_get_module_loc_conf(r, ngx_http_keybound_module);

    if (klcf->engine == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_keybound_module);

    if (ctx == NULL || ctx->engine != klcf->engine) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->waiting) {
        return NGX_AGAIN;
    }

    if (ctx->step == 0) {
        if (ctx->engine->needs & KB_NEEDS_FORM) {
            rc = ngx_http_keybound_read_form(r);

            if (rc != NGX_OK && rc != NGX_DECLINED) {
                return rc;
            }

            rc = NGX_OK;
        }

        ngx_http_keybound_count();
        status = ngx_http_keybound_decide(r, ctx);
    }

    if (status == KB_OK && (ctx->step == KB_STEP_FETCH || ctx->step == KB_STEP_STORE)) {
        rc = ngx_http_keybound_steps(ctx);

        if (rc == NGX_AGAIN) {
            return rc;
        }
    }

    if (status == KB_OK && rc == NGX_OK && ctx->step == KB_STEP_ALLOW) {
        return ngx_http_keybound_allow(r, ctx);
    }

    if (status == KB_OK && rc == NGX_OK && ctx->step == KB_STEP_RESPOND) {
        return ngx_http_keybound_respond(r, ctx);
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "keybound: no decision: %s",
                  status == KB_OK ? "a step could not be taken" : kb_strerror(status));

    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/* What the check has for the client: cookies, where to go on, claims. */

static ngx_int_t
ngx_http_keybound_header_filter(ngx_http_request_t *r)
{
    kb_str                    name, value, token = ngx_http_keybound_text("refresh-token");
    kb_str                    cache = ngx_http_keybound_text("Cache-Control"), no_store = ngx_http_keybound_text("no-store");
    kb_str                    nonce = ngx_http_keybound_text("DPoP-Nonce");
    ngx_str_t                 key;
    ngx_uint_t                i;
    ngx_http_keybound_ctx_t  *ctx = r == r->main ? ngx_http_keybound_ctx(r) : NULL;

    /* Of a fetch: nothing of it goes to disk, and a background subrequest would not be read further once proxy_buffers are full. */

    if (r != r->main && r->upstream && ngx_http_keybound_flight(r)) {
        r->upstream->buffering = 0;
    }

    /* nginx takes back the last one only. */

    if (ctx && ctx->challenge && r->headers_out.www_authenticate && r->headers_out.www_authenticate->hash == 0) {
        ctx->challenge->hash = 0;
    }

    if (ctx && (ctx->engine->needs & KB_NEEDS_FILTER)) {
        ngx_http_keybound_unsay(r, nonce);
    }

    for (i = 0; ctx && ctx->check && kb_check_response_header(ctx->check, i, &name, &value) == KB_OK; i++) {
        ngx_http_keybound_from(key, name);

        if (ngx_http_keybound_say(r, name, value) == NULL
            || (ngx_http_keybound_is(&key, token) && ngx_http_keybound_say(r, cache, no_store) == NULL))
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_next_header_filter(r);
}


/* The answer to a fetch goes to nobody. */

static ngx_int_t
ngx_http_keybound_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_keybound_flight_t  *flight = r == r->main ? NULL : ngx_http_keybound_flight(r);

    return flight ? ngx_http_keybound_take(r, flight, in) : ngx_http_next_body_filter(r, in);
}


static ngx_int_t
ngx_http_keybound_value(ngx_http_request_t *r, ngx_http_variable_value_t *v, kb_str text)
{
    ngx_str_t  copy = ngx_null_string;

    v->not_found = text.ptr == NULL;

    if (text.ptr && ngx_http_keybound_copy(r->pool, &copy, text) != NGX_OK) {
        return NGX_ERROR;
    }

    v->data = copy.data;
    v->len = copy.len;
    v->valid = !v->not_found;
    v->no_cacheable = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_keybound_decision_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    kb_str                    text = { NULL, 0 };
    ngx_http_keybound_ctx_t  *ctx = ngx_http_keybound_ctx(r->main);

    if (ctx && ctx->reason) {
        text.ptr = (uint8_t *) (data ? kb_reason_code(ctx->reason)
                                     : ctx->reason == KB_REASON_ALLOWED ? "allow"
                                     : ctx->step == KB_STEP_ALLOW ? "report"
                                     : ctx->response.status < 400 ? "redirect" : "deny");
        text.len = ngx_strlen(text.ptr);
    }

    return ngx_http_keybound_value(r, v, text);
}


static ngx_int_t
ngx_http_keybound_claim_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    size_t                    prefix = sizeof("keybound_claim_") - 1;
    kb_str                    text = { NULL, 0 };
    ngx_str_t                *name = (ngx_str_t *) data;
    ngx_http_keybound_ctx_t  *ctx = ngx_http_keybound_ctx(r->main);

    if (ctx) {
        (void) kb_check_claim(ctx->check, name->data + prefix, name->len - prefix, &text);
    }

    return ngx_http_keybound_value(r, v, text);
}


static ngx_int_t
ngx_http_keybound_thumbprint_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    kb_str   text = { NULL, KB_THUMBPRINT_SIZE - 1 };
    uint8_t  thumbprint[KB_THUMBPRINT_SIZE];

    if (r->connection->ssl && kb_ssl_thumbprint(r->connection->ssl->connection, &thumbprint) == KB_OK) {
        text.ptr = thumbprint;
    }

    return ngx_http_keybound_value(r, v, text);
}


#define ngx_http_keybound_var(name, handler, data)                                                         \
    { ngx_string("keybound_" name), NULL, handler, (uintptr_t) data, NGX_HTTP_VAR_NOCACHEABLE, 0 }

static ngx_str_t  ngx_http_keybound_claims[] = {
    ngx_string("keybound_claim_sub"), ngx_string("keybound_claim_client_id"), ngx_string("keybound_claim_scope")
};

static ngx_http_variable_t  ngx_http_keybound_variables[] = {
    ngx_http_keybound_var("decision", ngx_http_keybound_decision_variable, 0),
    ngx_http_keybound_var("reason", ngx_http_keybound_decision_variable, 1),
    ngx_http_keybound_var("thumbprint", ngx_http_keybound_thumbprint_variable, 0),
    ngx_http_keybound_var("subject", ngx_http_keybound_claim_variable, &ngx_http_keybound_claims[0]),
    ngx_http_keybound_var("client_id", ngx_http_keybound_claim_variable, &ngx_http_keybound_claims[1]),
    ngx_http_keybound_var("scope", ngx_http_keybound_claim_variable, &ngx_http_keybound_claims[2]),
    { ngx_string("keybound_claim_"), NULL, ngx_http_keybound_claim_variable, 0, NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_PREFIX, 0 },
    ngx_http_keybound_var("fetch_url", ngx_http_keybound_fetch_variable, 0),
    ngx_http_keybound_var("fetch_host", ngx_http_keybound_fetch_variable, 1),
    ngx_http_keybound_var("fetch_uri", ngx_http_keybound_fetch_variable, 2),
    ngx_http_keybound_var("fetch_certificate", ngx_http_keybound_fetch_variable, 3),
    ngx_http_keybound_var("fetch_certificate_key", ngx_http_keybound_fetch_variable, 4),
      ngx_http_null_variable
};


ngx_int_t
ngx_http_keybound_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_keybound_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* Claims are kept only where a variable of them is in use. */

uint32_t
ngx_http_keybound_wants_claims(ngx_http_core_main_conf_t *cmcf)
{
    ngx_uint_t            i;
    ngx_http_variable_t  *v = cmcf->variables.elts, *own;

    for (i = 0; i < cmcf->variables.nelts; i++) {
        for (own = ngx_http_keybound_variables; own->name.len; own++) {
            if (own->get_handler == ngx_http_keybound_claim_variable && v[i].name.len >= own->name.len
                && ngx_strncmp(v[i].name.data, own->name.data, own->name.len) == 0)
            {
                return KB_WANT_CLAIMS;
            }
        }
    }

    return 0;
}


void
ngx_http_keybound_add_filter(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_keybound_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_keybound_body_filter;
}
