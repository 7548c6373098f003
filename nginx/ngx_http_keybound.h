/*
 * keybound for nginx: what the parts of the module share.
 */

#ifndef NGX_HTTP_KEYBOUND_H
#define NGX_HTTP_KEYBOUND_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <keybound.h>

#if !(NGX_HTTP_SSL)
#error "keybound needs an nginx with http_ssl_module"
#endif


#define ngx_http_keybound_init(s)                                             \
    ngx_memzero(&(s), sizeof(s)); (s).struct_size = sizeof(s)

#define ngx_http_keybound_str(s, str)                                         \
    (s).len = (str).len; (s).data = (u_char *) (str).ptr


/* What tells engines apart. It is compared as bytes: pointers that were inherited are the same. */

typedef struct {
    struct ngx_http_keybound_file_s  *file;
    ngx_array_t                      *options[4];  /* of ngx_str_t, as in ngx_http_keybound_options */
    ngx_array_t                      *fetches;     /* of ngx_http_keybound_location_t */
    ngx_shm_zone_t                   *zone;
    ngx_uint_t                        mode;
} ngx_http_keybound_setup_t;


typedef struct {
    ngx_str_t                         uri;
    ngx_str_t                         certificate;
} ngx_http_keybound_location_t;


typedef struct ngx_http_keybound_file_s {
    ngx_str_t                         name;
    ngx_str_t                         content;
} ngx_http_keybound_file_t;


/* How requests with one of the engine's kb_tls are made. */

typedef struct {
    ngx_str_t                         uri;
    kb_tls                            tls;
} ngx_http_keybound_profile_t;


typedef struct {
    kb_engine                        *engine;
    ngx_http_keybound_setup_t         setup;
    ngx_array_t                       profiles;    /* of ngx_http_keybound_profile_t */
    ngx_array_t                       headers;     /* of ngx_str_t: upstream headers */
    uint64_t                         *published;   /* counters that the zone has */
    size_t                            counters;
    ngx_uint_t                        needs;
    ngx_uint_t                        report;
} ngx_http_keybound_engine_t;


typedef struct {
    ngx_array_t                       engines;     /* of ngx_http_keybound_engine_t * */
    ngx_array_t                       files;       /* of ngx_http_keybound_file_t * */
    ngx_str_t                         secret;      /* of the zones */
    uint32_t                          flags;       /* of kb_facts */
    ngx_int_t                         request_id;
} ngx_http_keybound_main_conf_t;


typedef struct {
    ngx_http_keybound_setup_t         setup;
    ngx_http_keybound_engine_t       *engine;      /* NULL: off */
} ngx_http_keybound_loc_conf_t;


typedef struct ngx_http_keybound_flight_s  ngx_http_keybound_flight_t;


/* A request; of the location in which it was decided about last. */

typedef struct {
    ngx_http_request_t               *request;
    ngx_http_keybound_engine_t       *engine;
    kb_check                         *check;
    uint32_t                          step;
    uint32_t                          reason;
    uint32_t                          status;
    uint32_t                          token_id;

    ngx_list_t                       *headers;     /* those of the client, once they were changed */
    ngx_table_elt_t                  *authorization;
#if (nginx_version < 1023000)
    ngx_array_t                       cookies;
#else
    ngx_table_elt_t                  *cookies;
#endif

    ngx_event_t                       wake;
    ngx_queue_t                       queue;       /* in flight->waiting */
    ngx_http_keybound_flight_t       *flight;

    unsigned                          waiting:1;
    unsigned                          delayed:1;
} ngx_http_keybound_ctx_t;


void ngx_http_keybound_wait(ngx_http_keybound_ctx_t *ctx, ngx_msec_t timeout);
void ngx_http_keybound_wake(ngx_http_keybound_ctx_t *ctx);

ngx_int_t ngx_http_keybound_facts(ngx_http_request_t *r, ngx_http_keybound_engine_t *engine, kb_facts *facts, kb_http *http);
ngx_int_t ngx_http_keybound_form(ngx_http_request_t *r);
ngx_int_t ngx_http_keybound_set_header(ngx_http_keybound_ctx_t *ctx, kb_str name, kb_str value);
void ngx_http_keybound_restore_headers(ngx_http_keybound_ctx_t *ctx);
ngx_int_t ngx_http_keybound_cert_refused(ngx_http_request_t *r);

void ngx_http_keybound_fetch_init(void);
ngx_int_t ngx_http_keybound_fetch(ngx_http_keybound_ctx_t *ctx);
ngx_int_t ngx_http_keybound_fetch_check(ngx_http_request_t *r);
void ngx_http_keybound_fetch_timeout(ngx_http_keybound_ctx_t *ctx);
void ngx_http_keybound_fetch_leave(ngx_http_keybound_ctx_t *ctx);
ngx_int_t ngx_http_keybound_fetch_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);

ngx_shm_zone_t *ngx_http_keybound_zone(ngx_conf_t *cf, ngx_str_t *name, size_t size);
ngx_int_t ngx_http_keybound_store(ngx_http_keybound_ctx_t *ctx, kb_store *store);
void ngx_http_keybound_publish(ngx_http_keybound_engine_t *engine);
ngx_int_t ngx_http_keybound_metrics_handler(ngx_http_request_t *r);


extern ngx_module_t  ngx_http_keybound_module;


#endif /* NGX_HTTP_KEYBOUND_H */
