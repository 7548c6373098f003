/*
 * FETCH: one subrequest in memory, through a location of the operator's with nginx's own proxy module. It runs in the background: the request
 * waits for it no longer than the engine says, and a client that goes away does not end it. Requests for the same thing wait for one.
 */

#include "ngx_http_keybound.h"


struct ngx_http_keybound_flight_s {
    ngx_queue_t                  queue;         /* in ngx_http_keybound_flights */
    ngx_queue_t                  waiting;       /* of ngx_http_keybound_ctx_t */
    ngx_http_keybound_engine_t  *engine;
    u_char                       key[32];
    size_t                       max_body;
    ngx_msec_t                   started;
    uint32_t                     verify;
    uint32_t                     failure;       /* its outcome where there is no answer */
    ngx_str_t                    variables[5];  /* url, host, uri, certificate, key */
    ngx_str_t                    method;
    ngx_http_request_body_t      body;
    ngx_buf_t                    buf;
    ngx_chain_t                  chain;
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


static void
ngx_http_keybound_unlink(ngx_http_keybound_flight_t *flight)
{
    if (flight->queue.next) {
        ngx_queue_remove(&flight->queue);
        flight->queue.next = NULL;
    }
}


/* Takes a request out of those that wait, with an answer. */

static void
ngx_http_keybound_land(ngx_http_keybound_ctx_t *ctx, kb_answer *answer)
{
    ngx_http_keybound_fetch_leave(ctx);

    if (kb_check_fetched(ctx->check, ngx_time(), answer) != KB_OK) {
        kb_check_free(ctx->check);
        ctx->check = NULL;
    }

    ngx_http_keybound_wake(ctx);
}


static void
ngx_http_keybound_land_all(ngx_http_keybound_flight_t *flight, kb_answer *answer)
{
    ngx_http_keybound_unlink(flight);

    while (!ngx_queue_empty(&flight->waiting)) {
        ngx_http_keybound_land(ngx_queue_data(ngx_queue_head(&flight->waiting), ngx_http_keybound_ctx_t, queue), answer);
        answer->joined = 1;
    }
}


/* The request that it was made for has ended, and its subrequest with it. */

static void
ngx_http_keybound_flight_cleanup(void *data)
{
    kb_answer  answer;

    ngx_http_keybound_init(answer);
    answer.outcome = KB_FETCH_BUSY;
    ngx_http_keybound_land_all(data, &answer);
}


void
ngx_http_keybound_fetch_leave(ngx_http_keybound_ctx_t *ctx)
{
    if (ctx->flight) {
        ngx_queue_remove(&ctx->queue);
        ctx->flight = NULL;
    }
}


/* The next ones do not wait for it. */

void
ngx_http_keybound_fetch_timeout(ngx_http_keybound_ctx_t *ctx)
{
    kb_answer  answer;

    ngx_http_keybound_init(answer);
    answer.outcome = KB_FETCH_TIMEOUT;
    ngx_http_keybound_unlink(ctx->flight);
    ngx_http_keybound_land(ctx, &answer);
}


static ngx_int_t
ngx_http_keybound_fetched(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    ngx_buf_t                   *b = r->out ? r->out->buf : NULL;
    kb_answer                    answer;
    ngx_list_part_t             *part;
    ngx_table_elt_t             *h;
    ngx_http_upstream_t         *u = r->upstream;
    ngx_http_keybound_flight_t  *flight = data;

    ngx_http_keybound_init(answer);
    answer.elapsed_us = (uint32_t) ngx_min(ngx_current_msec - flight->started, 4000000) * 1000;

    if (b) {
        answer.body.ptr = b->pos;
        answer.body.len = b->last - b->pos;
    }

    if (rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        answer.outcome = KB_FETCH_TIMEOUT;

    } else if (u == NULL || u->headers_in.status_n < 100) {
        answer.outcome = flight->failure;

    } else if (flight->verify && !u->ssl) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "keybound: the proxy_pass of keybound_fetch \"%V\" is not https", &r->uri);
        answer.outcome = KB_FETCH_TLS;

    } else if ((u->pipe && u->pipe->downstream_error) || answer.body.len > flight->max_body) {
        answer.outcome = KB_FETCH_TOO_LARGE;

    } else if (rc != NGX_OK || (off_t) answer.body.len < r->headers_out.content_length_n) {
        answer.outcome = KB_FETCH_MALFORMED;

    } else {
        answer.outcome = KB_FETCH_ANSWERED;
        answer.status = u->headers_in.status_n;
        ngx_http_keybound_to(answer.content_type, r->headers_out.content_type);

        ngx_http_keybound_each(h, part, &r->headers_out.headers) {
            if (h->key.len == 11 && ngx_strncasecmp(h->key.data, (u_char *) "Retry-After", 11) == 0) {
                ngx_http_keybound_to(answer.retry_after, h->value);
            }
        }
    }

    if (answer.outcome != KB_FETCH_ANSWERED) {
        answer.body.ptr = NULL;
    }

    ngx_http_keybound_land_all(flight, &answer);

    return NGX_OK;
}


static ngx_int_t
ngx_http_keybound_copy(ngx_pool_t *pool, ngx_str_t *to, kb_str from)
{
    to->len = from.len;
    to->data = ngx_pnalloc(pool, from.len + 1);

    if (to->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(to->data, from.ptr, from.len);
    to->data[to->len] = '\0';

    return NGX_OK;
}


/* The subrequest has what the engine says, and nothing of the client's. What the check holds is copied: it may go on before. */

static ngx_http_keybound_flight_t *
ngx_http_keybound_begin(ngx_http_keybound_ctx_t *ctx, kb_fetch *fetch)
{
    size_t                        i;
    kb_str                        name, value;
    ngx_str_t                     body;
    ngx_pool_t                   *pool = ctx->request->pool;
    ngx_table_elt_t              *h;
    ngx_http_request_t           *sr;
    ngx_pool_cleanup_t           *cln;
    ngx_http_keybound_flight_t   *flight;
    ngx_http_keybound_profile_t  *profile;

    profile = (ngx_http_keybound_profile_t *) ctx->engine->profiles.elts + fetch->tls;

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_http_keybound_flight_t));
    if (cln == NULL) {
        return NULL;
    }

    flight = cln->data;
    ngx_memzero(flight, sizeof(ngx_http_keybound_flight_t));
    ngx_queue_init(&flight->waiting);
    cln->handler = ngx_http_keybound_flight_cleanup;

    flight->engine = ctx->engine;
    flight->max_body = fetch->max_body;
    flight->started = ngx_current_msec;
    flight->verify = profile->tls.verify;
    flight->failure = KB_FETCH_CONNECT;
    flight->done.handler = ngx_http_keybound_fetched;
    flight->done.data = flight;
    ngx_memcpy(flight->key, fetch->flight.ptr, sizeof(flight->key));

    if (ngx_http_keybound_copy(pool, &flight->variables[0], fetch->url) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->variables[1], fetch->authority) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->variables[2], fetch->target) != NGX_OK
        || ngx_http_keybound_copy(pool, &flight->method, fetch->method) != NGX_OK
        || ngx_http_keybound_copy(pool, &body, fetch->body) != NGX_OK
        || ngx_http_subrequest(ctx->request, &profile->uri, NULL, &sr, &flight->done,
                               NGX_HTTP_SUBREQUEST_IN_MEMORY|NGX_HTTP_SUBREQUEST_BACKGROUND)
           != NGX_OK)
    {
        return NULL;
    }

    ngx_http_keybound_from(flight->variables[3], profile->tls.certificate);
    ngx_http_keybound_from(flight->variables[4], profile->tls.private_key);
    ngx_http_set_ctx(sr, flight, ngx_http_keybound_module);

    sr->method = body.len ? NGX_HTTP_POST : NGX_HTTP_GET;
    sr->method_name = flight->method;
    sr->request_body = NULL;
    ngx_memzero(&sr->headers_in, sizeof(ngx_http_headers_in_t));
    sr->headers_in.content_length_n = -1;

    if (ngx_list_init(&sr->headers_in.headers, pool, 8, sizeof(ngx_table_elt_t)) != NGX_OK) {
        return NULL;
    }

    for (i = 0; kb_check_fetch_header(ctx->check, i, &name, &value) == KB_OK; i++) {
        h = ngx_list_push(&sr->headers_in.headers);

        if (h == NULL
            || ngx_http_keybound_copy(pool, &h->key, name) != NGX_OK
            || ngx_http_keybound_copy(pool, &h->value, value) != NGX_OK)
        {
            return NULL;
        }

        ngx_strlow(h->key.data, h->key.data, h->key.len);
        h->lowcase_key = h->key.data;
        h->hash = ngx_hash_key(h->key.data, h->key.len);
    }

    if (body.len) {
        flight->buf.pos = body.data;
        flight->buf.last = body.data + body.len;
        flight->buf.memory = 1;
        flight->buf.last_buf = 1;
        flight->chain.buf = &flight->buf;
        flight->body.bufs = &flight->chain;
        sr->request_body = &flight->body;
        sr->headers_in.content_length_n = body.len;
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
    ngx_http_keybound_flight_t  *flight = NULL, *other;

    ngx_http_keybound_init(fetch);

    if (kb_check_fetch(ctx->check, &fetch) != KB_OK) {
        return NGX_ERROR;
    }

    for (q = ngx_queue_head(&ngx_http_keybound_flights);
         q != ngx_queue_sentinel(&ngx_http_keybound_flights) && flight == NULL;
         q = ngx_queue_next(q))
    {
        other = ngx_queue_data(q, ngx_http_keybound_flight_t, queue);

        if (other->engine == ctx->engine && ngx_memcmp(other->key, fetch.flight.ptr, sizeof(other->key)) == 0) {
            flight = other;
        }
    }

    if (flight == NULL) {
        flight = ngx_http_keybound_begin(ctx, &fetch);

        if (flight == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_queue_insert_tail(&flight->waiting, &ctx->queue);
    ctx->flight = flight;
    ngx_http_keybound_wait(ctx, fetch.timeout_ms);

    return NGX_AGAIN;
}


/* Before anything is sent: nginx does not verify servers unless it is told to. */

ngx_int_t
ngx_http_keybound_fetch_check(ngx_http_request_t *r)
{
    ngx_http_upstream_conf_t    *ucf;
    ngx_http_keybound_flight_t  *flight = ngx_http_get_module_ctx(r, ngx_http_keybound_module);

    if (flight == NULL || !flight->verify) {
        return NGX_DECLINED;
    }

    /* The first member of the proxy module's configuration, which is its own affair. */

    ucf = ngx_http_get_module_loc_conf(r, ngx_http_proxy_module);

    if (ucf->ssl_verify) {
        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "keybound: keybound_fetch \"%V\" has no proxy_ssl_verify: nothing is sent", &r->uri);
    flight->failure = KB_FETCH_TLS;

    return NGX_HTTP_BAD_GATEWAY;
}


ngx_int_t
ngx_http_keybound_fetch_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_keybound_flight_t  *flight = r == r->main ? NULL : ngx_http_get_module_ctx(r, ngx_http_keybound_module);

    if (flight == NULL || flight->variables[data].data == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = flight->variables[data].data;
    v->len = flight->variables[data].len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}
