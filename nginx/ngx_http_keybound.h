/*
 * keybound for nginx: what the parts of the module share.
 */

#ifndef NGX_HTTP_KEYBOUND_H
#define NGX_HTTP_KEYBOUND_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include <keybound.h>

#define ngx_http_keybound_init(s)       ngx_memzero(&(s), sizeof(s)); (s).struct_size = sizeof(s)
#define ngx_http_keybound_to(str, s)    (str).ptr = (s).data; (str).len = (s).len
#define ngx_http_keybound_from(s, str)  (s).data = (u_char *) (str).ptr; (s).len = (str).len

#define ngx_http_keybound_text(s)       { (const uint8_t *) s, sizeof(s) - 1 }

#define ngx_http_keybound_each(h, part, list)                                                            \
    for (part = &(list)->part; part; part = part->next)                                                  \
        for (h = part->elts; h < (ngx_table_elt_t *) part->elts + part->nelts; h++)


typedef struct {
    ngx_str_t                     name;
    ngx_str_t                     content;
    u_char                       *conf;        /* the file that names it, and the line there */
    ngx_uint_t                    line;
} ngx_http_keybound_file_t;


typedef struct {
    ngx_str_t                     uri;
    ngx_str_t                     certificate;
} ngx_http_keybound_location_t;


/* What tells engines apart. Compared as bytes: what was inherited is the same pointer. */

typedef struct {
    ngx_http_keybound_file_t     *file;
    ngx_array_t                  *mode, *dpop, *scope, *audience, *realm;  /* of kb_setting */
    ngx_array_t                  *fetches;                          /* of ngx_http_keybound_location_t */
    ngx_shm_zone_t               *zone;
    ngx_uint_t                    enable;
} ngx_http_keybound_setup_t;


typedef struct {
    kb_engine                    *engine;
    ngx_http_keybound_setup_t     setup;
    ngx_array_t                   locations;   /* of ngx_http_keybound_location_t *, by kb_fetch.tls */
    uint32_t                      needs;
    uint32_t                      report;
    ngx_uint_t                    headers;     /* how many it may set upstream */
    size_t                        counters;
    uint64_t                     *sums;        /* of them, in the zone; NULL: none yet */
    ngx_uint_t                    complained;  /* that there is no room for these */
} ngx_http_keybound_engine_t;


typedef struct {
    ngx_array_t                   engines;     /* of ngx_http_keybound_engine_t * */
    uint32_t                      flags;       /* of kb_facts */
    ngx_int_t                     request_id;
    ngx_int_t                     peer;        /* the address of the connection itself */
} ngx_http_keybound_main_conf_t;


typedef struct {
    ngx_http_keybound_setup_t     setup;
    ngx_http_keybound_engine_t   *engine;      /* NULL: off */
} ngx_http_keybound_loc_conf_t;


typedef struct ngx_http_keybound_flight_s  ngx_http_keybound_flight_t;


/* Of a request, in the location where it was decided about last. */

typedef struct {
    ngx_http_request_t           *request;
    ngx_http_keybound_engine_t   *engine;
    kb_check                     *check;
    uint64_t                      number;      /* of the request among those of this worker */
    size_t                        spent_len;   /* 0: it used no proof */
    uint8_t                       spent[40];   /* kb_check_spent() */
    uint32_t                      step;
    uint32_t                      reason;
    uint32_t                      token_id;
    kb_response                   response;
    ngx_table_elt_t              *challenge;   /* that does not count if others let the request through */

    ngx_event_t                   wake;
    ngx_queue_t                   queue;       /* in flight->waiting */
    ngx_http_keybound_flight_t   *flight;
    unsigned                      waiting:1;
    unsigned                      delayed:1;

    unsigned                      changed:1;   /* the headers of the request; these are its client's */
    ngx_list_t                    headers;
    ngx_table_elt_t              *authorization;
#if (nginx_version < 1023000)
    ngx_array_t                   cookies;
#else
    ngx_table_elt_t              *cookies;
#endif
} ngx_http_keybound_ctx_t;


void ngx_http_keybound_count(void);

ngx_int_t ngx_http_keybound_add_variables(ngx_conf_t *cf);
uint32_t ngx_http_keybound_wants_claims(ngx_http_core_main_conf_t *cmcf);
void ngx_http_keybound_add_filter(void);
ngx_int_t ngx_http_keybound_preaccess_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_keybound_access_handler(ngx_http_request_t *r);
void ngx_http_keybound_wait(ngx_http_keybound_ctx_t *ctx, ngx_msec_t timeout);
void ngx_http_keybound_wake(ngx_http_keybound_ctx_t *ctx);

ngx_int_t ngx_http_keybound_request_init(void);
ngx_int_t ngx_http_keybound_facts(ngx_http_keybound_ctx_t *ctx, kb_facts *facts, kb_http *http);
ngx_int_t ngx_http_keybound_drop_proof(ngx_http_keybound_ctx_t *ctx);
ngx_int_t ngx_http_keybound_read_form(ngx_http_request_t *r);
ngx_int_t ngx_http_keybound_set_header(ngx_http_keybound_ctx_t *ctx, kb_str name, kb_str value);
void ngx_http_keybound_forget_variables(ngx_http_request_t *r);
void ngx_http_keybound_restore_headers(ngx_http_keybound_ctx_t *ctx);
ngx_int_t ngx_http_keybound_copy(ngx_pool_t *pool, ngx_str_t *to, kb_str from);
ngx_int_t ngx_http_keybound_header(ngx_pool_t *pool, ngx_table_elt_t *h, kb_str name, kb_str value);
ngx_int_t ngx_http_keybound_is(ngx_str_t *key, kb_str name);

void ngx_http_keybound_fetch_init(void);
ngx_http_keybound_flight_t *ngx_http_keybound_flight(ngx_http_request_t *r);
ngx_int_t ngx_http_keybound_fetch(ngx_http_keybound_ctx_t *ctx);
ngx_int_t ngx_http_keybound_take(ngx_http_request_t *r, ngx_http_keybound_flight_t *flight, ngx_chain_t *in);
ngx_int_t ngx_http_keybound_fetch_check(ngx_http_request_t *r);
void ngx_http_keybound_fetch_timeout(ngx_http_keybound_ctx_t *ctx);
void ngx_http_keybound_leave(ngx_http_keybound_ctx_t *ctx);
ngx_int_t ngx_http_keybound_fetch_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);

ngx_int_t ngx_http_keybound_zone_init(ngx_shm_zone_t *zone, void *data);
int32_t ngx_http_keybound_store(ngx_http_keybound_ctx_t *ctx, kb_store *store);
void ngx_http_keybound_publish(ngx_http_keybound_engine_t *engine);
ngx_int_t ngx_http_keybound_metrics_handler(ngx_http_request_t *r);


extern ngx_module_t  ngx_http_keybound_module;


#endif /* NGX_HTTP_KEYBOUND_H */
