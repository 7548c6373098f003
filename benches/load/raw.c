/*
 * What no check of a new token can go below: its signature, verified in the access phase, and nothing else.
 *
 *     raw_signature decode | verify;    decode: all but the verification
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


#define RAW_DECODE  1
#define RAW_VERIFY  2


/* In raw.rs. */

int keybound_load_raw(const u_char *authorization, size_t length, int verify);

static void *raw_create_loc_conf(ngx_conf_t *cf);
static ngx_int_t raw_init(ngx_conf_t *cf);

static ngx_conf_enum_t  raw_values[] = {
    { ngx_string("decode"), RAW_DECODE },
    { ngx_string("verify"), RAW_VERIFY },
    { ngx_null_string, 0 }
};

static ngx_command_t  raw_commands[] = {
    { ngx_string("raw_signature"), NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1, ngx_conf_set_enum_slot, NGX_HTTP_LOC_CONF_OFFSET, 0, raw_values },
    ngx_null_command
};

static ngx_http_module_t  raw_ctx = { NULL, raw_init, NULL, NULL, NULL, NULL, raw_create_loc_conf, NULL };

static ngx_module_t  raw_module = {
    NGX_MODULE_V1,
    &raw_ctx,
    raw_commands,
    NGX_HTTP_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};

/* What nginx's configure writes for a dynamic module. */

ngx_module_t  *ngx_modules[] = { &raw_module, NULL };
char          *ngx_module_names[] = { "keybound_load_raw", NULL };
char          *ngx_module_order[] = { NULL };


static ngx_int_t
raw_handler(ngx_http_request_t *r)
{
    ngx_uint_t       *raw = ngx_http_get_module_loc_conf(r, raw_module);
    ngx_table_elt_t  *authorization = r->headers_in.authorization;

    if (*raw != RAW_DECODE && *raw != RAW_VERIFY) {
        return NGX_DECLINED;
    }

    if (authorization && keybound_load_raw(authorization->value.data, authorization->value.len, *raw == RAW_VERIFY)) {
        return NGX_OK;
    }

    return NGX_HTTP_UNAUTHORIZED;
}


static void *
raw_create_loc_conf(ngx_conf_t *cf)
{
    ngx_uint_t  *raw = ngx_palloc(cf->pool, sizeof(ngx_uint_t));

    if (raw) {
        *raw = NGX_CONF_UNSET_UINT;
    }

    return raw;
}


static ngx_int_t
raw_init(ngx_conf_t *cf)
{
    ngx_http_core_main_conf_t  *cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_handler_pt        *handler = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);

    if (handler == NULL) {
        return NGX_ERROR;
    }

    *handler = raw_handler;

    return NGX_OK;
}
