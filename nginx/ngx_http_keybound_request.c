/*
 * What a request is decided from, and the headers that go on with it.
 */

#include "ngx_http_keybound.h"


/* Longer forms hold no credentials. */

#define NGX_HTTP_KEYBOUND_MAX_FORM  16384

#if (nginx_version < 1023000)
#define ngx_http_keybound_cookies(r)  (r)->headers_in.cookies
#else
#define ngx_http_keybound_cookies(r)  (r)->headers_in.cookie
#endif


static ngx_int_t ngx_http_keybound_http(ngx_http_request_t *r, kb_http *http);


/* Where nginx has another OpenSSL inside than the process's, keybound cannot look into the connection by itself. */

ngx_int_t
ngx_http_keybound_certificate(ngx_http_request_t *r, kb_facts *facts)
{
    int      len;
    u_char  *der;
    SSL     *ssl = r->connection->ssl->connection;
    X509    *cert;

    if (kb_ssl_supported()) {
        facts->ssl = ssl;
        return NGX_OK;
    }

    facts->flags |= SSL_is_init_finished(ssl) ? 0 : KB_FACT_EARLY_DATA;

    cert = SSL_get_peer_certificate(ssl);
    if (cert == NULL) {
        return NGX_OK;
    }

    len = i2d_X509(cert, NULL);
    der = len > 0 ? ngx_pnalloc(r->pool, len) : NULL;
    facts->client_cert_form = KB_CERT_DER;
    facts->client_cert.ptr = der;
    facts->client_cert.len = der ? i2d_X509(cert, &der) : 0;
    X509_free(cert);

    return facts->client_cert.ptr ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keybound_facts(ngx_http_request_t *r, kb_facts *facts, kb_http *http)
{
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *authorization = r->headers_in.authorization;

    facts->now_s = ngx_time();

    if (authorization) {
        ngx_http_keybound_to(facts->authorization, authorization->value);

        ngx_http_keybound_each(h, part, &r->headers_in.headers) {
            facts->authorization_n += h->hash == authorization->hash && h->key.len == authorization->key.len;
        }
    }

    if (r->args.len) {
        ngx_http_keybound_to(facts->query, r->args);
    }

    if (r->connection->ssl && ngx_http_keybound_certificate(r, facts) != NGX_OK) {
        return NGX_ERROR;
    }

    facts->http = http;

    return http ? ngx_http_keybound_http(r, http) : NGX_OK;
}


static ngx_int_t
ngx_http_keybound_http(ngx_http_request_t *r, kb_http *http)
{
    u_char           *p;
    size_t            n = 0;
    ngx_buf_t        *b;
    kb_header        *header;
    ngx_chain_t      *cl;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    ngx_http_keybound_to(http->method, r->method_name);
    ngx_http_keybound_to(http->target, r->unparsed_uri);

    if (r->headers_in.host) {
        ngx_http_keybound_to(http->host, r->headers_in.host->value);
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        n += part->nelts;
    }

    header = ngx_palloc(r->pool, (n + 1) * sizeof(kb_header));
    if (header == NULL) {
        return NGX_ERROR;
    }

    http->headers = header;
    http->headers_n = n;

    ngx_http_keybound_each(h, part, &r->headers_in.headers) {
        ngx_http_keybound_to(header->name, h->key);
        ngx_http_keybound_to(header->value, h->value);
        header++;
    }

    if (r->request_body == NULL || ngx_http_keybound_read_form(r) != NGX_OK) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, r->headers_in.content_length_n + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    http->form.ptr = p;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        n = ngx_min(ngx_buf_size(b), r->headers_in.content_length_n - (off_t) http->form.len);

        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(p + http->form.len, b->pos, n);

        } else if (ngx_read_file(b->file, p + http->form.len, n, b->file_pos) != (ssize_t) n) {
            return NGX_ERROR;
        }

        http->form.len += n;
    }

    return NGX_OK;
}


static void
ngx_http_keybound_form_handler(ngx_http_request_t *r)
{
    r->preserve_body = 1;
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


/* NGX_OK: the body is a form, and is there; NGX_DECLINED: it is none; NGX_DONE: it is being read. */

ngx_int_t
ngx_http_keybound_read_form(ngx_http_request_t *r)
{
    ngx_int_t         rc;
    ngx_str_t         form = ngx_string("application/x-www-form-urlencoded");
    ngx_table_elt_t  *type = r->headers_in.content_type;

    if (r->method != NGX_HTTP_POST || r->headers_in.content_length_n < 0 || r->headers_in.content_length_n > NGX_HTTP_KEYBOUND_MAX_FORM
        || type == NULL || type->value.len < form.len || ngx_strncasecmp(type->value.data, form.data, form.len) != 0
        || (type->value.len > form.len && ngx_strchr("; \t", type->value.data[form.len]) == NULL))
    {
        return NGX_DECLINED;
    }

    if (r->request_body) {
        return NGX_OK;
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_keybound_form_handler);
    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


/* Whether a header has this name, in any spelling: to CGI, and to many who came after it, X_User is X-User. */

static ngx_int_t
ngx_http_keybound_is(ngx_table_elt_t *h, kb_str name)
{
    u_char  a, b;
    size_t  i;

    for (i = 0; i < name.len && h->key.len == name.len; i++) {
        a = ngx_tolower(h->key.data[i]);
        b = ngx_tolower(name.ptr[i]);

        if ((a == '_' ? '-' : a) != (b == '_' ? '-' : b)) {
            return 0;
        }
    }

    return h->key.len == name.len;
}


/* nginx points to headers: those of the client stay where they are, and the request gets a list of its own. */

static ngx_int_t
ngx_http_keybound_own_headers(ngx_http_keybound_ctx_t *ctx)
{
    ngx_uint_t           n = 64;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h, *own;
    ngx_http_request_t  *r = ctx->request;

    ctx->headers = r->headers_in.headers;
    ctx->authorization = r->headers_in.authorization;
    ctx->cookies = ngx_http_keybound_cookies(r);

    for (part = &ctx->headers.part; part; part = part->next) {
        n += part->nelts;
    }

    /* One part: it has room for those that are set, of which there are fewer. */

    if (ngx_list_init(&r->headers_in.headers, r->pool, n, sizeof(ngx_table_elt_t)) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_keybound_each(h, part, &ctx->headers) {
        own = ngx_list_push(&r->headers_in.headers);
        *own = *h;
    }

    ctx->changed = 1;

    return NGX_OK;
}


/* Removes a header from the request, and sets it where there is a value. */

ngx_int_t
ngx_http_keybound_set_header(ngx_http_keybound_ctx_t *ctx, kb_str name, kb_str value)
{
    u_char              *p;
    ngx_uint_t           i, n;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h, *set = NULL;
    ngx_http_request_t  *r = ctx->request;

    if (!ctx->changed && ngx_http_keybound_own_headers(ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    part = &r->headers_in.headers.part;

    for (h = part->elts, i = 0, n = 0; i < part->nelts; i++) {
        if (!ngx_http_keybound_is(&h[i], name)) {
            h[n++] = h[i];
        }
    }

    part->nelts = n;

    if (value.ptr) {
        set = ngx_palloc(r->pool, sizeof(ngx_table_elt_t) + 2 * name.len + value.len);
        h = ngx_list_push(&r->headers_in.headers);

        if (set == NULL || h == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(set, sizeof(ngx_table_elt_t));
        p = (u_char *) (set + 1);
        set->key.len = name.len;
        set->key.data = p;
        set->lowcase_key = p + name.len;
        set->value.len = value.len;
        set->value.data = ngx_cpymem(p, name.ptr, name.len) + name.len;
        set->hash = ngx_hash_strlow(set->lowcase_key, set->key.data, name.len);
        ngx_memcpy(set->value.data, value.ptr, value.len);
        *h = *set;
    }

    if (name.len == 13 && ngx_strncasecmp((u_char *) name.ptr, (u_char *) "authorization", 13) == 0) {
        r->headers_in.authorization = set;

    } else if (name.len == 6 && ngx_strncasecmp((u_char *) name.ptr, (u_char *) "cookie", 6) == 0) {
#if (nginx_version < 1023000)
        if (ngx_array_init(&r->headers_in.cookies, r->pool, 1, sizeof(ngx_table_elt_t *)) != NGX_OK) {
            return NGX_ERROR;
        }

        if (set) {
            *(ngx_table_elt_t **) ngx_array_push(&r->headers_in.cookies) = set;
        }
#else
        r->headers_in.cookie = set;
#endif
    }

    return NGX_OK;
}


/* Gives the request back what its client sent. */

void
ngx_http_keybound_restore_headers(ngx_http_keybound_ctx_t *ctx)
{
    if (ctx->changed) {
        ctx->request->headers_in.headers = ctx->headers;
        ctx->request->headers_in.authorization = ctx->authorization;
        ngx_http_keybound_cookies(ctx->request) = ctx->cookies;
        ctx->changed = 0;
    }
}
