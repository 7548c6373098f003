/*
 * What a request is decided from, and the headers that go on with it.
 */

#include "ngx_http_keybound.h"


/* Longer forms hold no credentials. */

#define NGX_HTTP_KEYBOUND_MAX_FORM  16384


typedef struct {
    kb_str  name;
    size_t  offset;
    char   *separator;
} ngx_http_keybound_fact_t;


#define ngx_http_keybound_name(s)  { (const uint8_t *) s, sizeof(s) - 1 }

static ngx_int_t ngx_http_keybound_http(ngx_http_request_t *r, kb_http *http);
static void ngx_http_keybound_form_handler(ngx_http_request_t *r);


/* Several of one name are joined. Several refresh tokens become something that cannot be one. */

static ngx_http_keybound_fact_t  ngx_http_keybound_http_facts[] = {
    { ngx_http_keybound_name("cookie"), offsetof(kb_http, cookie), "; " },
    { ngx_http_keybound_name("accept"), offsetof(kb_http, accept), ", " },
    { ngx_http_keybound_name("origin"), offsetof(kb_http, origin), ", " },
    { ngx_http_keybound_name("sec-fetch-site"), offsetof(kb_http, fetch_site), ", " },
    { ngx_http_keybound_name("sec-fetch-mode"), offsetof(kb_http, fetch_mode), ", " },
    { ngx_http_keybound_name("sec-fetch-dest"), offsetof(kb_http, fetch_dest), ", " },
    { ngx_http_keybound_name("refresh-token"), offsetof(kb_http, refresh_token), ", " },
    { { NULL, 0 }, 0, NULL }
};


/* Whether a header has this name, in any spelling: to CGI, and to many who came after it, X_User is X-User. */

ngx_int_t
ngx_http_keybound_is(ngx_table_elt_t *h, kb_str name)
{
    u_char  a, b;
    size_t  i;

    if (h->hash == 0 || h->key.len != name.len) {
        return 0;
    }

    for (i = 0; i < name.len; i++) {
        a = ngx_tolower(h->key.data[i]);
        b = ngx_tolower(name.ptr[i]);

        if (a != b && !((a == '_' || a == '-') && (b == '_' || b == '-'))) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_keybound_facts(ngx_http_request_t *r, ngx_http_keybound_engine_t *engine, kb_facts *facts, kb_http *http)
{
    u_char           *der;
    int               len;
    X509             *cert;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *authorization = r->headers_in.authorization;

    facts->now_s = ngx_time();

    if (authorization) {
        facts->authorization.ptr = authorization->value.data;
        facts->authorization.len = authorization->value.len;

        ngx_http_keybound_each(h, part, &r->headers_in.headers) {
            facts->authorization_n += h->hash == authorization->hash && h->key.len == authorization->key.len;
        }
    }

    if (r->args.len) {
        facts->query.ptr = r->args.data;
        facts->query.len = r->args.len;
    }

    if (r->connection->ssl && kb_ssl_supported()) {
        facts->ssl = r->connection->ssl->connection;

    } else if (r->connection->ssl) {
        facts->flags |= SSL_is_init_finished(r->connection->ssl->connection) ? 0 : KB_FACT_EARLY_DATA;
        cert = SSL_get_peer_certificate(r->connection->ssl->connection);

        if (cert) {
            len = i2d_X509(cert, NULL);
            der = len > 0 ? ngx_pnalloc(r->pool, len) : NULL;
            facts->client_cert_form = KB_CERT_DER;
            facts->client_cert.ptr = der;
            facts->client_cert.len = der ? i2d_X509(cert, &der) : 0;
            X509_free(cert);

            if (facts->client_cert.ptr == NULL) {
                return NGX_ERROR;
            }
        }
    }

    if (engine->needs & KB_NEEDS_HTTP) {
        facts->http = http;
        return ngx_http_keybound_http(r, http);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keybound_join(ngx_pool_t *pool, kb_str *to, char *separator, ngx_str_t *text)
{
    u_char  *p;

    if (to->ptr == NULL) {
        to->ptr = text->data;
        to->len = text->len;
        return NGX_OK;
    }

    p = ngx_pnalloc(pool, to->len + 2 + text->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(ngx_cpymem(ngx_cpymem(p, to->ptr, to->len), separator, 2), text->data, text->len);
    to->ptr = p;
    to->len += 2 + text->len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_keybound_http(ngx_http_request_t *r, kb_http *http)
{
    off_t                      rest;
    ssize_t                    n;
    u_char                    *p;
    ngx_buf_t                 *b;
    ngx_chain_t               *cl;
    ngx_list_part_t           *part;
    ngx_table_elt_t           *h;
    ngx_http_keybound_fact_t  *fact;

    http->method.ptr = r->method_name.data;
    http->method.len = r->method_name.len;
    http->target.ptr = r->unparsed_uri.data;
    http->target.len = r->unparsed_uri.len;

    if (r->headers_in.host) {
        http->host.ptr = r->headers_in.host->value.data;
        http->host.len = r->headers_in.host->value.len;
    }

    ngx_http_keybound_each(h, part, &r->headers_in.headers) {
        for (fact = ngx_http_keybound_http_facts; fact->name.ptr; fact++) {
            if (ngx_http_keybound_is(h, fact->name)
                && ngx_http_keybound_join(r->pool, (kb_str *) ((u_char *) http + fact->offset), fact->separator, &h->value) != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    if (r->request_body == NULL || ngx_http_keybound_form(r) != NGX_DECLINED) {
        return NGX_OK;
    }

    /* A form that was read. */

    p = ngx_pnalloc(r->pool, NGX_HTTP_KEYBOUND_MAX_FORM);
    if (p == NULL) {
        return NGX_ERROR;
    }

    http->form.ptr = p;
    rest = NGX_HTTP_KEYBOUND_MAX_FORM;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        n = ngx_min(ngx_buf_size(b), rest);

        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(p, b->pos, n);

        } else if (ngx_read_file(b->file, p, n, b->file_pos) != n) {
            return NGX_ERROR;
        }

        p += n;
        rest -= n;
    }

    http->form.len = p - http->form.ptr;

    return NGX_OK;
}


/* Reads the body of a form. NGX_DECLINED: it is there; NGX_DONE: it comes; NGX_OK: there is none. */

ngx_int_t
ngx_http_keybound_form(ngx_http_request_t *r)
{
    ngx_int_t   rc;
    ngx_str_t   form = ngx_string("application/x-www-form-urlencoded");
    ngx_str_t  *type = r->headers_in.content_type ? &r->headers_in.content_type->value : NULL;

    if (r->method != NGX_HTTP_POST || type == NULL || type->len < form.len
        || ngx_strncasecmp(type->data, form.data, form.len) != 0
        || (type->len > form.len && ngx_strchr("; \t", type->data[form.len]) == NULL)
        || r->headers_in.content_length_n < 0 || r->headers_in.content_length_n > NGX_HTTP_KEYBOUND_MAX_FORM)
    {
        return NGX_OK;
    }

    if (r->request_body) {
        return NGX_DECLINED;
    }

    r->request_body_in_single_buf = 1;
    rc = ngx_http_read_client_request_body(r, ngx_http_keybound_form_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static void
ngx_http_keybound_form_handler(ngx_http_request_t *r)
{
    r->preserve_body = 1;
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


/* A header that nginx knows has a place of its own, too. */

static ngx_int_t
ngx_http_keybound_place(ngx_http_request_t *r, ngx_uint_t hash, u_char *name, size_t len, ngx_table_elt_t *h)
{
    void                       *place;
    ngx_http_header_t          *hh;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    hh = ngx_hash_find(&cmcf->headers_in_hash, hash, name, len);

    if (hh == NULL || hh->offset == 0) {
        return NGX_OK;
    }

    place = (u_char *) &r->headers_in + hh->offset;

#if (nginx_version < 1023000)

    /* What is there may be that of the client: it stays as it is. */

    if (place == &r->headers_in.cookies
#if (NGX_HTTP_X_FORWARDED_FOR)
        || place == &r->headers_in.x_forwarded_for
#endif
       )
    {
        ngx_table_elt_t  **one;

        if (ngx_array_init(place, r->pool, 1, sizeof(ngx_table_elt_t *)) != NGX_OK) {
            return NGX_ERROR;
        }

        if (h) {
            one = ngx_array_push(place);
            *one = h;
        }

        return NGX_OK;
    }

#endif

    *(ngx_table_elt_t **) place = h;

    return NGX_OK;
}


/* Removes a header from the request, and sets it where there is a value. Headers that nginx points to stay where they are. */

ngx_int_t
ngx_http_keybound_set_header(ngx_http_keybound_ctx_t *ctx, kb_str name, kb_str value)
{
    ngx_uint_t           i, n;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h, *own;
    ngx_http_request_t  *r = ctx->request;

    if (!ctx->changed) {
        ctx->headers = r->headers_in.headers;
        ctx->authorization = r->headers_in.authorization;
        ctx->cookies = r->headers_in.ngx_http_keybound_cookies;
        ctx->changed = 1;

        n = ctx->engine->headers.nelts + 8;

        for (part = &ctx->headers.part; part; part = part->next) {
            n += part->nelts;
        }

        /* One part, with room for all. */

        if (ngx_list_init(&r->headers_in.headers, r->pool, n, sizeof(ngx_table_elt_t)) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_http_keybound_each(h, part, &ctx->headers) {
            own = ngx_list_push(&r->headers_in.headers);
            *own = *h;
        }
    }

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0, n = 0; i < part->nelts; i++) {
        if (!ngx_http_keybound_is(&h[i], name)) {
            h[n++] = h[i];
        }
    }

    if (n == part->nelts && value.ptr == NULL) {
        return NGX_OK;
    }

    part->nelts = n;
    h = NULL;

    own = ngx_palloc(r->pool, sizeof(ngx_table_elt_t) + 2 * name.len + value.len);
    if (own == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(own, sizeof(ngx_table_elt_t));
    own->key.len = name.len;
    own->key.data = (u_char *) (own + 1);
    own->lowcase_key = own->key.data + name.len;
    own->value.len = value.len;
    own->value.data = own->lowcase_key + name.len;
    ngx_memcpy(own->key.data, name.ptr, name.len);
    own->hash = ngx_hash_strlow(own->lowcase_key, own->key.data, name.len);

    if (value.ptr) {
        ngx_memcpy(own->value.data, value.ptr, value.len);
        h = ngx_list_push(&r->headers_in.headers);

        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = *own;
        h = own;
    }

    return ngx_http_keybound_place(r, own->hash, own->lowcase_key, name.len, h);
}


/* Gives the request back what its client sent. */

void
ngx_http_keybound_restore_headers(ngx_http_keybound_ctx_t *ctx)
{
    if (ctx->changed) {
        ctx->request->headers_in.headers = ctx->headers;
        ctx->request->headers_in.authorization = ctx->authorization;
        ctx->request->headers_in.ngx_http_keybound_cookies = ctx->cookies;
        ctx->changed = 0;
    }
}


/* Whether nginx itself refused the certificate: then it is here only because error_page led here. As in ngx_http_process_request(). */

ngx_int_t
ngx_http_keybound_cert_refused(ngx_http_request_t *r)
{
    long                      rc;
    X509                     *cert;
    const char               *s;
    ngx_http_ssl_srv_conf_t  *sscf;

    if (r->connection->ssl == NULL) {
        return 0;
    }

    sscf = ngx_http_get_module_srv_conf(r, ngx_http_ssl_module);

    if (!sscf->verify) {
        return 0;
    }

    rc = SSL_get_verify_result(r->connection->ssl->connection);

    if ((rc != X509_V_OK && (sscf->verify != 3 || !ngx_ssl_verify_error_optional(rc)))
        || ngx_ssl_ocsp_get_status(r->connection, &s) != NGX_OK)
    {
        return 1;
    }

    if (sscf->verify != 1) {
        return 0;
    }

    cert = SSL_get_peer_certificate(r->connection->ssl->connection);
    X509_free(cert);

    return cert == NULL;
}
