/*
 * FETCH: one subrequest in memory, through a location of the operator's with nginx's own proxy module. It runs in the background: the
 * request waits no longer than the engine says, and a client that goes away does not end it. Requests for the same thing wait for one.
 */

#include "ngx_http_keybound.h"


struct ngx_http_keybound_flight_s {
    ngx_queue_t                  queue;         /* in ngx_http_keybound_flights */
    ngx_queue_t                  waiting;       /* of ngx_http_keybound_ctx_t */
    ngx_http_keybound_engine_t  *engine;
    ngx_http_request_t          *subrequest;
    ngx_str_t                    key;
    ngx_msec_t                   started;
    uint32_t                     verify;
    uint32_t                     refused;       /* as it would not be verified */
    size_t                       max_body;
    ngx_str_t                    answer;
    ngx_uint_t                   too_large;
    ngx_str_t                    variables[5];  /* url, host, uri, certificate, key */
    ngx_http_request_body_t      body;
    ngx_http_post_subrequest_t   done;
};


extern ngx_module_t  ngx_http_proxy_module;

/* Those of this process that others may join. */

static ngx_queue_t   ngx_http_keybound_flights;


void
ngx_http_keybound_fetch_init(void)
{
    ngx_queue_init(&ngx_http_keybound_flights);
}


void
ngx_http_keybound_leave(ngx_http_keybound_ctx_t *ctx)
{
    if (ctx->flight) {
        ngx_queue_remove(&ctx->queue);
        ctx->flight = NULL;
    }
}


/* Takes a request out of those that wait, with an answer. A check that does not take it is none. */

static void
ngx_http_keybound_answer(ngx_http_keybound_ctx_t *ctx, kb_answer *answer)
{
    ngx_http_keybound_leave(ctx);

    if (kb_check_fetched(ctx->check, ngx_time(), answer) != KB_OK) {
        kb_check_free(ctx->check);
        ctx->check = NULL;
    }

    ngx_http_keybound_wake(ctx);
}


static void
ngx_http_keybound_unlink(ngx_http_keybound_flight_t *flight)
{
    if (flight->queue.next) {
        ngx_queue_remove(&flight->queue);
        flight->queue.next = NULL;
    }
}


static void
ngx_http_keybound_answer_all(ngx_http_keybound_flight_t *flight, kb_answer *answer)
{
    ngx_http_keybound_unlink(flight);

    while (!ngx_queue_empty(&flight->waiting)) {
        ngx_http_keybound_answer(ngx_queue_data(ngx_queue_head(&flight->waiting), ngx_http_keybound_ctx_t, queue), answer);
        answer->joined = 1;
    }
}


/* The request's time is up; those that come now do not wait for this flight, which ends with the last one that does. */

void
ngx_http_keybound_fetch_timeout(ngx_http_keybound_ctx_t *ctx)
{
    kb_answer                    answer;
    ngx_http_keybound_flight_t  *flight = ctx->flight;
    ngx_http_request_t          *sr = flight->subrequest;

    ngx_http_keybound_init(answer);
    answer.outcome = KB_FETCH_TIMEOUT;
    ngx_http_keybound_unlink(flight);
    ngx_http_keybound_answer(ctx, &answer);

    /* What nginx itself calls where a request ends: without it, the client's connection waits for the location's timeouts. */

    if (ngx_queue_empty(&flight->waiting) && sr->upstream && sr->upstream->cleanup) {
        (*sr->upstream->cleanup)(sr);
    }
}


/* The request that it was begun for has ended, and its subrequest with it. */

static void
ngx_http_keybound_flight_cleanup(void *data)
{
    kb_answer  answer;

    ngx_http_keybound_init(answer);
    answer.outcome = KB_FETCH_BUSY;
    ngx_http_keybound_answer_all(data, &answer);
}


static ngx_int_t
ngx_http_keybound_fetched(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    kb_str                       retry_after = ngx_http_keybound_text("retry-after");
    kb_answer                    answer;
    ngx_list_part_t             *part;
    ngx_table_elt_t             *h;
    ngx_http_upstream_t         *u = r->upstream;
    ngx_http_keybound_flight_t  *flight = data;

    ngx_http_keybound_init(answer);
    answer.elapsed_us = ngx_min(ngx_current_msec - flight->started, 4000000) * 1000;

    ngx_http_keybound_to(answer.body, flight->answer);

    if (flight->refused || ngx_http_get_module_ctx(r, ngx_http_keybound_module) != flight
        || (u && u->headers_in.status_n && !u->ssl))
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "keybound: keybound_fetch \"%V\" does not verify the server, or goes on elsewhere: "
                      "it needs proxy_pass with https, proxy_ssl_verify on, and no redirect", &r->uri);
        answer.outcome = KB_FETCH_TLS;

    } else if (u == NULL || u->headers_in.status_n < 100) {
        answer.outcome = rc == NGX_HTTP_GATEWAY_TIME_OUT ? KB_FETCH_TIMEOUT : u && u->request_sent ? KB_FETCH_MALFORMED : KB_FETCH_CONNECT;

    } else if (flight->too_large) {
        answer.outcome = KB_FETCH_TOO_LARGE;

    } else if (rc != NGX_OK || u->length > 0 || u->headers_in.status_n > 599) {

        /* nginx hides it where the rest did not come. */

        answer.outcome = KB_FETCH_MALFORMED;

    } else {
        answer.outcome = KB_FETCH_ANSWERED;
        answer.status = u->headers_in.status_n;
        ngx_http_keybound_to(answer.content_type, r->headers_out.content_type);

        ngx_http_keybound_each(h, part, &r->headers_out.headers) {
            if (ngx_http_keybound_is(&h->key, retry_after)) {
                ngx_http_keybound_to(answer.retry_after, h->value);
            }
        }
    }

    ngx_http_keybound_answer_all(flight, &answer);

    return NGX_OK;
}


/* Takes the body: nginx's own way to keep it in memory cuts the client's connection where it is too large. */

ngx_int_t
ngx_http_keybound_take(ngx_http_request_t *r, ngx_http_keybound_flight_t *flight, ngx_chain_t *in)
{
    size_t      n;
    ngx_str_t  *answer = &flight->answer;

    if (answer->data == NULL) {
        n = r->headers_out.content_length_n < 0 ? flight->max_body : ngx_min((size_t) r->headers_out.content_length_n, flight->max_body);
        answer->data = ngx_pnalloc(r->pool, n + 1);

        if (answer->data == NULL) {
            return NGX_ERROR;
        }

        flight->max_body = n;
    }

    for ( /* void */ ; in; in = in->next) {
        n = ngx_buf_in_memory(in->buf) ? in->buf->last - in->buf->pos : 0;
        flight->too_large |= n > flight->max_body - answer->len;

        if (!flight->too_large) {
            ngx_memcpy(answer->data + answer->len, in->buf->pos, n);
            answer->len += n;
        }

        in->buf->pos = in->buf->last;
    }

    return NGX_OK;
}


/* The subrequest sends what the engine says, and nothing of the client's. What a check holds is copied: it may go on before. */

static ngx_int_t
ngx_http_keybound_fill(ngx_http_keybound_ctx_t *ctx, ngx_http_request_t *sr, kb_fetch *fetch, ngx_http_request_body_t *body)
{
    kb_str            name, value;
    ngx_buf_t        *b;
    ngx_str_t         content;
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    ngx_http_core_main_conf_t  *cmcf = ngx_http_get_module_main_conf(sr, ngx_http_core_module);

    ngx_memzero(&sr->headers_in, sizeof(ngx_http_headers_in_t));
    sr->headers_in.content_length_n = -1;
    sr->request_body = NULL;
    sr->method = fetch->body.len ? NGX_HTTP_POST : NGX_HTTP_GET;
    sr->variables = ngx_pcalloc(sr->pool, cmcf->variables.nelts * sizeof(ngx_http_variable_value_t));

    if (sr->variables == NULL
        || ngx_list_init(&sr->headers_in.headers, sr->pool, 8, sizeof(ngx_table_elt_t)) != NGX_OK
        || ngx_http_keybound_copy(sr->pool, &sr->method_name, fetch->method) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; kb_check_fetch_header(ctx->check, i, &name, &value) == KB_OK; i++) {
        h = ngx_list_push(&sr->headers_in.headers);

        if (h == NULL || ngx_http_keybound_header(sr->pool, h, name, value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (fetch->body.len) {
        b = ngx_calloc_buf(sr->pool);
        body->bufs = ngx_alloc_chain_link(sr->pool);

        if (b == NULL || body->bufs == NULL || ngx_http_keybound_copy(sr->pool, &content, fetch->body) != NGX_OK) {
            return NGX_ERROR;
        }

        b->pos = content.data;
        b->last = content.data + content.len;
        b->memory = 1;
        b->last_buf = 1;
        body->bufs->buf = b;
        body->bufs->next = NULL;
        sr->request_body = body;
        sr->headers_in.content_length_n = content.len;
    }

    return NGX_OK;
}


static ngx_http_keybound_flight_t *
ngx_http_keybound_begin(ngx_http_keybound_ctx_t *ctx, kb_fetch *fetch)
{
    kb_tls                         tls;
    ngx_pool_t                    *pool = ctx->request->pool;
    ngx_http_request_t            *sr;
    ngx_pool_cleanup_t            *cln;
    ngx_http_keybound_flight_t    *flight;
    ngx_http_keybound_location_t **locations = ctx->engine->locations.elts;

    ngx_http_keybound_init(tls);

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_http_keybound_flight_t));

    if (cln == NULL || kb_engine_tls(ctx->engine->engine, fetch->tls, &tls) != KB_OK) {
        return NULL;
    }

    flight = cln->data;
    ngx_memzero(flight, sizeof(ngx_http_keybound_flight_t));
    ngx_queue_init(&flight->waiting);
    cln->handler = ngx_http_keybound_flight_cleanup;

    flight->engine = ctx->engine;
    flight->started = ngx_current_msec;
    flight->verify = tls.verify;
    flight->max_body = fetch->max_body;
    flight->done.handler = ngx_http_keybound_fetched;
    flight->done.data = flight;

    if (ngx_http_keybound_copy(pool, &flight->key, fetch->flight) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->variables[0], fetch->url) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->variables[1], fetch->authority) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->variables[2], fetch->target) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->variables[3], tls.certificate) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->variables[4], tls.private_key) != NGX_OK
        || ngx_http_subrequest(ctx->request, &locations[fetch->tls]->uri, NULL, &sr, &flight->done,
                               NGX_HTTP_SUBREQUEST_IN_MEMORY|NGX_HTTP_SUBREQUEST_BACKGROUND)
           != NGX_OK)
    {
        return NULL;
    }

    flight->subrequest = sr;
    ngx_http_set_ctx(sr, flight, ngx_http_keybound_module);

    /* It goes out in any case; not with the half of it. */

    if (ngx_http_keybound_fill(ctx, sr, fetch, &flight->body) != NGX_OK) {
        flight->refused = 1;
        return NULL;
    }

    ngx_queue_insert_tail(&ngx_http_keybound_flights, &flight->queue);

    return flight;
}


/* Begins the request that a check asks for, or joins one that is under way. */

ngx_int_t
ngx_http_keybound_fetch(ngx_http_keybound_ctx_t *ctx)
{
    kb_fetch                     fetch;
    ngx_queue_t                 *q;
    ngx_http_keybound_flight_t  *flight;

    ngx_http_keybound_init(fetch);

    if (kb_check_fetch(ctx->check, &fetch) != KB_OK) {
        return NGX_ERROR;
    }

    for (q = ngx_queue_head(&ngx_http_keybound_flights); ; q = ngx_queue_next(q)) {
        if (q == ngx_queue_sentinel(&ngx_http_keybound_flights)) {
            flight = ngx_http_keybound_begin(ctx, &fetch);
            break;
        }

        flight = ngx_queue_data(q, ngx_http_keybound_flight_t, queue);

        if (flight->engine == ctx->engine && ngx_memcmp(flight->key.data, fetch.flight.ptr, fetch.flight.len) == 0) {
            break;
        }
    }

    if (flight == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&flight->waiting, &ctx->queue);
    ctx->flight = flight;
    ngx_http_keybound_wait(ctx, fetch.timeout_ms);

    return NGX_AGAIN;
}


/* That of a subrequest of ours, wherever it was redirected to. */

ngx_http_keybound_flight_t *
ngx_http_keybound_flight(ngx_http_request_t *r)
{
    return r->post_subrequest && r->post_subrequest->handler == ngx_http_keybound_fetched ? r->post_subrequest->data : NULL;
}


/*
 * Before anything is sent: nginx does not verify servers unless it is told to; and what X-Accel-Redirect led elsewhere has lost its context.
 */

ngx_int_t
ngx_http_keybound_fetch_check(ngx_http_request_t *r)
{
    ngx_http_upstream_conf_t    *ucf;
    ngx_http_keybound_flight_t  *flight = ngx_http_keybound_flight(r);

    if (flight == NULL) {
        return NGX_DECLINED;
    }

    /* The first member of the proxy module's configuration; the rest is its own affair. */

    ucf = ngx_http_get_module_loc_conf(r, ngx_http_proxy_module);

    if (ngx_http_get_module_ctx(r, ngx_http_keybound_module) == NULL || (flight->verify && !ucf->ssl_verify)
        || flight->refused || ucf->ssl == NULL || ucf->ssl->ctx == NULL)
    {
        flight->refused = 1;
        return NGX_HTTP_BAD_GATEWAY;
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_keybound_fetch_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_keybound_flight_t  *flight = r == r->main ? NULL : ngx_http_get_module_ctx(r, ngx_http_keybound_module);

    v->not_found = flight == NULL;

    if (flight) {
        v->data = flight->variables[data].data;
        v->len = flight->variables[data].len;
        v->valid = 1;
        v->no_cacheable = 1;
    }

    return NGX_OK;
}
