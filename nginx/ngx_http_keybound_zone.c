/*
 * keybound_zone: what workers share. Entries of the store, which end by themselves, and counters, which never do.
 */

#include "ngx_http_keybound.h"


/* Entries that each operation looks at, whether they have ended; and that are given up for one that finds no room. */

#define NGX_HTTP_KEYBOUND_LOOK     2
#define NGX_HTTP_KEYBOUND_EVICT    64

/* Seconds between two lines about a store that is full. */

#define NGX_HTTP_KEYBOUND_SILENCE  10


typedef struct {
    ngx_str_node_t    node;
    ngx_queue_t       queue;
    time_t            ends;
    size_t            len;
    unsigned          cache:1;
    u_char            data[1];      /* key, value */
} ngx_http_keybound_entry_t;


typedef struct {
    ngx_str_node_t    node;
    ngx_atomic_t      value;
    u_char            name[1];
} ngx_http_keybound_counter_t;


typedef struct {
    ngx_rbtree_t      entries;
    ngx_rbtree_node_t entries_sentinel;
    ngx_rbtree_t      counters;
    ngx_rbtree_node_t counters_sentinel;
    ngx_queue_t       kept;         /* looked at in turn */
    ngx_queue_t       caches;       /* the least recently used at the end */
    time_t            complained;
} ngx_http_keybound_shared_t;


static ngx_int_t ngx_http_keybound_zone_init(ngx_shm_zone_t *zone, void *data);
static void *ngx_http_keybound_alloc(ngx_slab_pool_t *pool, ngx_http_keybound_shared_t *shared, size_t size);
static uint32_t ngx_http_keybound_put(ngx_slab_pool_t *pool, kb_store *store, uint32_t hash);


ngx_shm_zone_t *
ngx_http_keybound_zone(ngx_conf_t *cf, ngx_str_t *name, size_t size)
{
    ngx_shm_zone_t  *zone;

    zone = ngx_shared_memory_add(cf, name, size, &ngx_http_keybound_module);

    if (zone) {
        zone->init = ngx_http_keybound_zone_init;
    }

    return zone;
}


static ngx_int_t
ngx_http_keybound_zone_init(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t             *pool;
    ngx_http_keybound_shared_t  *shared;

    pool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data || zone->shm.exists) {
        zone->data = pool;
        return NGX_OK;
    }

    shared = ngx_slab_calloc(pool, sizeof(ngx_http_keybound_shared_t));
    if (shared == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&shared->entries, &shared->entries_sentinel, ngx_str_rbtree_insert_value);
    ngx_rbtree_init(&shared->counters, &shared->counters_sentinel, ngx_str_rbtree_insert_value);
    ngx_queue_init(&shared->kept);
    ngx_queue_init(&shared->caches);

    pool->data = shared;
    pool->log_nomem = 0;
    zone->data = pool;

    return NGX_OK;
}


static void
ngx_http_keybound_free(ngx_slab_pool_t *pool, ngx_http_keybound_entry_t *entry)
{
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_rbtree_delete(&shared->entries, &entry->node.node);
    ngx_queue_remove(&entry->queue);
    ngx_slab_free_locked(pool, entry);
}


/* Frees what has ended among the first entries of a queue, and looks at the next ones the next time. */

static void
ngx_http_keybound_look(ngx_slab_pool_t *pool, ngx_queue_t *queue, ngx_uint_t n)
{
    ngx_queue_t                *q;
    ngx_http_keybound_entry_t  *entry;

    while (n-- && !ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        entry = ngx_queue_data(q, ngx_http_keybound_entry_t, queue);

        if (entry->ends <= ngx_time()) {
            ngx_http_keybound_free(pool, entry);
            continue;
        }

        ngx_queue_remove(q);
        ngx_queue_insert_tail(queue, q);
    }
}


static void *
ngx_http_keybound_alloc(ngx_slab_pool_t *pool, ngx_http_keybound_shared_t *shared, size_t size)
{
    void        *p;
    ngx_uint_t   n;

    p = ngx_slab_alloc_locked(pool, size);

    for (n = 0; p == NULL && n < NGX_HTTP_KEYBOUND_EVICT; n++) {
        ngx_http_keybound_look(pool, &shared->kept, NGX_HTTP_KEYBOUND_LOOK);

        if (!ngx_queue_empty(&shared->caches)) {
            ngx_http_keybound_free(pool, ngx_queue_data(ngx_queue_last(&shared->caches), ngx_http_keybound_entry_t, queue));
        }

        p = ngx_slab_alloc_locked(pool, size);
    }

    return p;
}


static ngx_http_keybound_entry_t *
ngx_http_keybound_find(ngx_slab_pool_t *pool, kb_str key, uint32_t hash)
{
    ngx_str_t                    name;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_http_keybound_str(name, key);
    entry = (ngx_http_keybound_entry_t *) ngx_str_rbtree_lookup(&shared->entries, &name, hash);

    return entry && entry->ends > ngx_time() ? entry : NULL;
}


static uint32_t
ngx_http_keybound_put(ngx_slab_pool_t *pool, kb_store *store, uint32_t hash)
{
    ngx_str_t                    name;
    ngx_http_keybound_entry_t   *entry, *old;
    ngx_http_keybound_shared_t  *shared = pool->data;

    entry = ngx_http_keybound_alloc(pool, shared, offsetof(ngx_http_keybound_entry_t, data) + store->key.len + store->value.len);
    if (entry == NULL) {
        return KB_STORE_FAILED;
    }

    /* Room was made: what was there may be gone. */

    ngx_http_keybound_str(name, store->key);
    old = (ngx_http_keybound_entry_t *) ngx_str_rbtree_lookup(&shared->entries, &name, hash);
    if (old) {
        ngx_http_keybound_free(pool, old);
    }

    entry->node.node.key = hash;
    entry->node.str.len = store->key.len;
    entry->node.str.data = entry->data;
    entry->ends = ngx_time() + store->ttl_s;
    entry->len = store->value.len;
    entry->cache = (store->flags & KB_STORE_CACHE) != 0;
    ngx_memcpy(ngx_cpymem(entry->data, store->key.ptr, store->key.len), store->value.ptr, store->value.len);

    ngx_rbtree_insert(&shared->entries, &entry->node.node);
    ngx_queue_insert_head(entry->cache ? &shared->caches : &shared->kept, &entry->queue);

    return KB_STORED;
}


/* Performs the operation of a check, and feeds the answer back. */

ngx_int_t
ngx_http_keybound_store(ngx_http_keybound_ctx_t *ctx, kb_store *store)
{
    u_char                      *copy;
    kb_str                       value;
    uint32_t                     answer, hash;
    ngx_uint_t                   complain;
    ngx_slab_pool_t             *pool;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared;

    value.ptr = NULL;
    value.len = 0;

    if (ctx->engine->setup.zone == NULL) {
        return kb_check_stored(ctx->check, ngx_time(), KB_STORE_FAILED, value);
    }

    pool = ctx->engine->setup.zone->data;
    shared = pool->data;
    hash = ngx_murmur_hash2((u_char *) store->key.ptr, store->key.len);
    complain = 0;

    ngx_shmtx_lock(&pool->mutex);

    ngx_http_keybound_look(pool, &shared->kept, NGX_HTTP_KEYBOUND_LOOK);
    entry = ngx_http_keybound_find(pool, store->key, hash);

    switch (store->operation) {

    case KB_STORE_ADD:
        answer = entry ? KB_STORE_EXISTS : ngx_http_keybound_put(pool, store, hash);
        break;

    case KB_STORE_PUT:
        answer = ngx_http_keybound_put(pool, store, hash);
        break;

    case KB_STORE_DELETE:
        if (entry) {
            ngx_http_keybound_free(pool, entry);
        }

        answer = KB_STORED;
        break;

    default: /* KB_STORE_GET */
        answer = KB_STORE_ABSENT;

        if (entry) {
            copy = ngx_pnalloc(ctx->request->pool, entry->len ? entry->len : 1);
            answer = copy ? KB_STORE_FOUND : KB_STORE_FAILED;

            if (copy) {
                ngx_memcpy(copy, entry->data + entry->node.str.len, entry->len);
                value.ptr = copy;
                value.len = entry->len;
            }

            if (entry->cache) {
                ngx_queue_remove(&entry->queue);
                ngx_queue_insert_head(&shared->caches, &entry->queue);
            }
        }
    }

    if (answer == KB_STORE_FAILED && ngx_time() >= shared->complained + NGX_HTTP_KEYBOUND_SILENCE) {
        shared->complained = ngx_time();
        complain = 1;
    }

    ngx_shmtx_unlock(&pool->mutex);

    if (complain) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0, "keybound: the shared store failed: "
                      "keybound_zone \"%V\" is full: make it larger", &ctx->engine->setup.zone->shm.name);
    }

    return kb_check_stored(ctx->check, ngx_time(), answer, value);
}


/* The counter of a sample; made where there is none and `make` says so. */

static ngx_atomic_t *
ngx_http_keybound_counter(ngx_shm_zone_t *zone, kb_str sample, ngx_uint_t make)
{
    uint32_t                      hash;
    ngx_str_t                     name;
    ngx_slab_pool_t              *pool = zone->data;
    ngx_http_keybound_shared_t   *shared = pool->data;
    ngx_http_keybound_counter_t  *counter;

    ngx_http_keybound_str(name, sample);
    hash = ngx_murmur_hash2(name.data, name.len);

    ngx_shmtx_lock(&pool->mutex);

    counter = (ngx_http_keybound_counter_t *) ngx_str_rbtree_lookup(&shared->counters, &name, hash);

    if (counter == NULL && make) {
        counter = ngx_http_keybound_alloc(pool, shared, offsetof(ngx_http_keybound_counter_t, name) + name.len);

        if (counter) {
            counter->node.node.key = hash;
            counter->node.str.len = name.len;
            counter->node.str.data = counter->name;
            counter->value = 0;
            ngx_memcpy(counter->name, name.data, name.len);
            ngx_rbtree_insert(&shared->counters, &counter->node.node);
        }
    }

    ngx_shmtx_unlock(&pool->mutex);

    return counter ? &counter->value : NULL;
}


/* Adds what the counters of this process grew by since the last time. */

void
ngx_http_keybound_publish(ngx_http_keybound_engine_t *engine)
{
    size_t         i, n;
    uint64_t      *now;
    kb_counter     counter;
    ngx_atomic_t  *total;

    if (engine->setup.zone == NULL) {
        return;
    }

    ngx_http_keybound_init(counter);
    now = engine->published + engine->counters;

    if (kb_engine_counters(engine->engine, now, engine->counters, &n) != KB_OK) {
        return;
    }

    for (i = 0; i < n; i++) {
        if (now[i] == engine->published[i] || kb_engine_counter(engine->engine, i, &counter) != KB_OK) {
            continue;
        }

        total = ngx_http_keybound_counter(engine->setup.zone, counter.sample, 1);

        if (total) {
            (void) ngx_atomic_fetch_add(total, now[i] - engine->published[i]);
            engine->published[i] = now[i];
        }
    }
}


ngx_int_t
ngx_http_keybound_metrics_handler(ngx_http_request_t *r)
{
    size_t                          i;
    kb_str                          text;
    kb_page                        *page;
    uint64_t                       *values;
    ngx_int_t                       rc;
    ngx_str_t                       type = ngx_string("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ngx_uint_t                      n;
    kb_counter                      counter;
    ngx_atomic_t                   *total;
    ngx_http_complex_value_t        cv;
    ngx_http_keybound_engine_t    **engines, *engine;
    ngx_http_keybound_loc_conf_t   *klcf;
    ngx_http_keybound_main_conf_t  *kmcf;

    klcf = ngx_http_get_module_loc_conf(r, ngx_http_keybound_module);
    kmcf = ngx_http_get_module_main_conf(r, ngx_http_keybound_module);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    if (kb_page_new(&page) != KB_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_keybound_init(counter);
    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    engines = kmcf->engines.elts;
    rc = KB_OK;

    for (n = 0; n < kmcf->engines.nelts && rc == KB_OK; n++) {
        engine = engines[n];

        if (engine->setup.zone != klcf->setup.zone) {
            continue;
        }

        ngx_http_keybound_publish(engine);

        values = ngx_palloc(r->pool, engine->counters * sizeof(uint64_t));
        if (values == NULL) {
            rc = KB_E_NULL;
            break;
        }

        for (i = 0; kb_engine_counter(engine->engine, i, &counter) == KB_OK && i < engine->counters; i++) {
            total = ngx_http_keybound_counter(engine->setup.zone, counter.sample, 0);
            values[i] = total ? *total : 0;
        }

        rc = kb_page_add(page, engine->engine, values, engine->counters);
    }

    if (rc == KB_OK && kb_page_text(page, &text) == KB_OK) {
        cv.value.len = text.len;
        cv.value.data = ngx_pnalloc(r->pool, text.len);

        if (cv.value.data) {
            ngx_memcpy(cv.value.data, text.ptr, text.len);
        }
    }

    kb_page_free(page);

    return cv.value.data ? ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv) : NGX_HTTP_INTERNAL_SERVER_ERROR;
}
