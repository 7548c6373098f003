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


/* What names a request: like no other one on any node, and the same for all of its passes through internal redirects. */

typedef struct {
    u_char    worker[16];
    uint64_t  number;
} ngx_http_keybound_name_t;


static ngx_http_keybound_name_t  ngx_http_keybound_name;
static uint64_t                  ngx_http_keybound_requests;


ngx_int_t
ngx_http_keybound_request_init(void)
{
    return RAND_bytes(ngx_http_keybound_name.worker, sizeof(ngx_http_keybound_name.worker)) == 1 ? NGX_OK : NGX_ERROR;
}


/* A copy that ends with a NUL, which is not counted. */

ngx_int_t
ngx_http_keybound_copy(ngx_pool_t *pool, ngx_str_t *to, kb_str from)
{
    to->len = from.len;
    to->data = ngx_pnalloc(pool, from.len + 1);

    if (to->data == NULL) {
        return NGX_ERROR;
    }

    *ngx_cpymem(to->data, from.ptr, from.len) = '\0';

    return NGX_OK;
}


/* Fills a header, copied. */

ngx_int_t
ngx_http_keybound_header(ngx_pool_t *pool, ngx_table_elt_t *h, kb_str name, kb_str value)
{
    ngx_memzero(h, sizeof(ngx_table_elt_t));

    if (ngx_http_keybound_copy(pool, &h->key, name) != NGX_OK || ngx_http_keybound_copy(pool, &h->value, value) != NGX_OK) {
        return NGX_ERROR;
    }

    h->lowcase_key = ngx_pnalloc(pool, name.len);
    if (h->lowcase_key == NULL) {
        return NGX_ERROR;
    }

    h->hash = ngx_hash_strlow(h->lowcase_key, h->key.data, h->key.len);

    return NGX_OK;
}


/* Whether a header has this name, in any spelling: to CGI, and to many who came after it, X_User is X-User. */

ngx_int_t
ngx_http_keybound_is(ngx_str_t *key, kb_str name)
{
    u_char  a, b;
    size_t  i;

    for (i = 0; i < name.len && key->len == name.len; i++) {
        a = ngx_tolower(key->data[i]);
        b = ngx_tolower(name.ptr[i]);

        if ((a == '_' ? '-' : a) != (b == '_' ? '-' : b)) {
            return 0;
        }
    }

    return key->len == name.len;
}


static ngx_uint_t
ngx_http_keybound_has_proof(ngx_http_request_t *r)
{
    ngx_str_t         scheme = ngx_string("DPoP");
    ngx_table_elt_t  *h = r->headers_in.authorization;

    return h && h->value.len >= scheme.len && ngx_strncasecmp(h->value.data, scheme.data, scheme.len) == 0;
}


/* A proof that nobody looked at, beside a token that needs none, does not go on. */

ngx_int_t
ngx_http_keybound_drop_proof(ngx_http_keybound_ctx_t *ctx)
{
    kb_str               name = ngx_http_keybound_text("dpop"), none = { NULL, 0 };
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r = ctx->request;

    if (!(ctx->engine->needs & KB_NEEDS_PROOF) || ngx_http_keybound_has_proof(r)) {
        return NGX_OK;
    }

    ngx_http_keybound_each(h, part, &r->headers_in.headers) {
        if (ngx_http_keybound_is(&h->key, name)) {
            ngx_http_keybound_forget_variables(r);
            return ngx_http_keybound_set_header(ctx, name, none);
        }
    }

    return NGX_OK;
}


/* The client's own: error_page and X-Accel-Redirect make a GET of it. */

static ngx_str_t
ngx_http_keybound_method(ngx_http_request_t *r)
{
    u_char     *end = ngx_strlchr(r->request_line.data, r->request_line.data + r->request_line.len, ' ');
    ngx_str_t   method = { end - r->request_line.data, r->request_line.data };

    return end ? method : r->method_name;
}


/* Where the request line names another host than the header, there are two, and none is taken. */

static ngx_uint_t
ngx_http_keybound_has_host(ngx_http_request_t *r)
{
    ngx_str_t  *name = &r->headers_in.server, *host = r->headers_in.host ? &r->headers_in.host->value : NULL;

    return host && (r->host_start == NULL
                    || (host->len >= name->len && ngx_strncasecmp(host->data, name->data, name->len) == 0
                        && (host->len == name->len || host->data[name->len] == ':')));
}


static ngx_int_t
ngx_http_keybound_http(ngx_http_keybound_ctx_t *ctx, kb_http *http)
{
    size_t                          n = 0;
    ngx_buf_t                      *b;
    kb_header                      *header;
    ngx_str_t                       form, method, scheme, https = ngx_string("https"), plain = ngx_string("http");
    ngx_chain_t                    *cl;
    ngx_list_part_t                *part;
    ngx_table_elt_t                *h;
    ngx_http_request_t             *r = ctx->request;
    ngx_http_variable_value_t      *peer;
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_get_module_main_conf(r, ngx_http_keybound_module);

    method = ngx_http_keybound_method(r);
    scheme = r->connection->ssl ? https : plain;
    ngx_http_keybound_to(http->method, method);
    ngx_http_keybound_to(http->target, r->unparsed_uri);
    ngx_http_keybound_to(http->scheme, scheme);

    if (ngx_http_keybound_has_host(r)) {
        ngx_http_keybound_to(http->host, r->headers_in.host->value);
    }

    peer = ngx_http_get_indexed_variable(r, kmcf->peer);

    if (peer && !peer->not_found) {
        http->peer.ptr = peer->data;
        http->peer.len = peer->len;
    }

    if (ctx->number == 0) {
        ctx->number = ++ngx_http_keybound_requests;
    }

    ngx_http_keybound_name.number = ctx->number;
    http->request.ptr = (u_char *) &ngx_http_keybound_name;
    http->request.len = sizeof(ngx_http_keybound_name);

    if (ctx->spent_len) {
        http->spent.ptr = ctx->spent;
        http->spent.len = ctx->spent_len;
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

    form.len = 0;
    form.data = ngx_pnalloc(r->pool, r->headers_in.content_length_n + 1);
    if (form.data == NULL) {
        return NGX_ERROR;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next, form.len += n) {
        b = cl->buf;
        n = ngx_buf_special(b) ? 0 : ngx_min(ngx_buf_size(b), r->headers_in.content_length_n - (off_t) form.len);

        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(form.data + form.len, b->pos, n);

        } else if (n && ngx_read_file(b->file, form.data + form.len, n, b->file_pos) != (ssize_t) n) {
            return NGX_ERROR;
        }
    }

    ngx_http_keybound_to(http->form, form);

    return NGX_OK;
}


ngx_int_t
ngx_http_keybound_facts(ngx_http_keybound_ctx_t *ctx, kb_facts *facts, kb_http *http)
{
    ngx_list_part_t     *part;
    ngx_http_request_t  *r = ctx->request;
    ngx_table_elt_t     *h, *authorization = r->headers_in.authorization;

    facts->now_s = ngx_time();
    facts->http = http;
    facts->ssl = r->connection->ssl ? r->connection->ssl->connection : NULL;

    if (authorization) {
        ngx_http_keybound_to(facts->authorization, authorization->value);

        ngx_http_keybound_each(h, part, &r->headers_in.headers) {
            facts->authorization_n += h->hash == authorization->hash && h->key.len == authorization->key.len;
        }
    }

    if (r->args.len) {
        ngx_http_keybound_to(facts->query, r->args);
    }

    /* Where only proofs are decided from it, the many requests with a bearer token do not pay for it. */

    if (http && ((ctx->engine->needs & KB_NEEDS_LOGIN) || ngx_http_keybound_has_proof(r))) {
        return ngx_http_keybound_http(ctx, http);
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
    ngx_int_t   rc;
    ngx_str_t   form = ngx_string("application/x-www-form-urlencoded"), *type;

    if (r->method != NGX_HTTP_POST || r->headers_in.content_type == NULL || r->headers_in.content_length_n < 0
        || r->headers_in.content_length_n > NGX_HTTP_KEYBOUND_MAX_FORM)
    {
        return NGX_DECLINED;
    }

    type = &r->headers_in.content_type->value;

    if (type->len < form.len || ngx_strncasecmp(type->data, form.data, form.len) != 0
        || (type->len > form.len && ngx_strchr("; \t", type->data[form.len]) == NULL))
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
    ctx->changed = 1;

    for (part = &ctx->headers.part; part; part = part->next) {
        n += part->nelts;
    }

    /* One part: it has room for those that are set, of which there are fewer. */

    if (ngx_list_init(&r->headers_in.headers, r->pool, n, sizeof(ngx_table_elt_t)) != NGX_OK) {
        r->headers_in.headers = ctx->headers;
        return NGX_ERROR;
    }

    ngx_http_keybound_each(h, part, &ctx->headers) {
        own = ngx_list_push(&r->headers_in.headers);
        *own = *h;
    }

    return NGX_OK;
}


/* nginx remembers variables of headers that were asked for before they changed. Those that the configuration sets itself stay. */

void
ngx_http_keybound_forget_variables(ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    for (v = cmcf->variables.elts, i = 0; i < cmcf->variables.nelts; i++) {
        if (!(v[i].flags & NGX_HTTP_VAR_CHANGEABLE)
            && ((v[i].name.len > 5 && ngx_strncmp(v[i].name.data, "http_", 5) == 0)
                || (v[i].name.len > 7 && ngx_strncmp(v[i].name.data, "cookie_", 7) == 0)))
        {
            r->variables[i].valid = 0;
            r->variables[i].not_found = 0;
        }
    }
}


/* Removes a header from the request, and sets it where there is a value. */

ngx_int_t
ngx_http_keybound_set_header(ngx_http_keybound_ctx_t *ctx, kb_str name, kb_str value)
{
    kb_str               cookie = ngx_http_keybound_text("cookie"), authorization = ngx_http_keybound_text("authorization");
    ngx_str_t            key;
    ngx_uint_t           i, n;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h, *set = NULL;
    ngx_http_request_t  *r = ctx->request;

    if (!ctx->changed && ngx_http_keybound_own_headers(ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    part = &r->headers_in.headers.part;

    for (h = part->elts, i = 0, n = 0; i < part->nelts; i++) {
        if (!ngx_http_keybound_is(&h[i].key, name)) {
            h[n++] = h[i];
        }
    }

    part->nelts = n;

    if (value.ptr) {
        set = ngx_palloc(r->pool, sizeof(ngx_table_elt_t));
        h = ngx_list_push(&r->headers_in.headers);

        if (set == NULL || h == NULL || ngx_http_keybound_header(r->pool, set, name, value) != NGX_OK) {
            return NGX_ERROR;
        }

        *h = *set;
    }

    /* nginx's own pointers, which have to be to what does not move. */

    ngx_http_keybound_from(key, name);

    if (ngx_http_keybound_is(&key, authorization)) {
        r->headers_in.authorization = set;

    } else if (ngx_http_keybound_is(&key, cookie)) {
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
