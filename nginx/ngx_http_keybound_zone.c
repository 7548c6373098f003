/*
 * keybound_zone: what workers share. Entries of the store, which end by themselves, and arrays of counters, which never do.
 */

#include <ngx_sha1.h>

#include "ngx_http_keybound.h"


/* Entries that each operation looks at, whether they have ended; and caches that are given up where one finds no room. */

#define NGX_HTTP_KEYBOUND_LOOK     2
#define NGX_HTTP_KEYBOUND_EVICT    64

/* Seconds between two lines about a store that is full. */

#define NGX_HTTP_KEYBOUND_SILENCE  10


typedef struct {
    ngx_str_node_t     node;
    ngx_queue_t        queue;
    time_t             ends;
    size_t             len;
    ngx_uint_t         cache;
    u_char             data[1];    /* key and value, aligned as the members before are */
} ngx_http_keybound_entry_t;


typedef struct {
    ngx_rbtree_t       tree;
    ngx_rbtree_node_t  sentinel;
    ngx_queue_t        kept;       /* looked at in turn */
    ngx_queue_t        caches;     /* the least recently used at the end */
    time_t             complained;
} ngx_http_keybound_shared_t;


ngx_int_t
ngx_http_keybound_zone_init(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t             *pool = (ngx_slab_pool_t *) zone->shm.addr;
    ngx_http_keybound_shared_t  *shared;

    zone->data = pool;

    if (data || zone->shm.exists) {
        return NGX_OK;
    }

    shared = ngx_slab_alloc(pool, sizeof(ngx_http_keybound_shared_t));
    if (shared == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&shared->tree, &shared->sentinel, ngx_str_rbtree_insert_value);
    ngx_queue_init(&shared->kept);
    ngx_queue_init(&shared->caches);
    shared->complained = 0;
    pool->log_nomem = 0;
    pool->data = shared;

    return NGX_OK;
}


static void
ngx_http_keybound_free(ngx_slab_pool_t *pool, ngx_http_keybound_entry_t *entry)
{
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_rbtree_delete(&shared->tree, &entry->node.node);
    ngx_queue_remove(&entry->queue);
    ngx_slab_free_locked(pool, entry);
}


static ngx_http_keybound_entry_t *
ngx_http_keybound_find(ngx_slab_pool_t *pool, kb_str key, uint32_t hash)
{
    ngx_str_t                    name;
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_http_keybound_from(name, key);

    return (ngx_http_keybound_entry_t *) ngx_str_rbtree_lookup(&shared->tree, &name, hash);
}


/* Frees what has ended among the next ones that are kept, so that each has its turn. */

static void
ngx_http_keybound_look(ngx_slab_pool_t *pool)
{
    ngx_uint_t                   n;
    ngx_queue_t                 *q;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared = pool->data;

    for (n = 0; n < NGX_HTTP_KEYBOUND_LOOK && !ngx_queue_empty(&shared->kept); n++) {
        q = ngx_queue_head(&shared->kept);
        entry = ngx_queue_data(q, ngx_http_keybound_entry_t, queue);

        if (entry->ends <= ngx_time()) {
            ngx_http_keybound_free(pool, entry);

        } else {
            ngx_queue_remove(q);
            ngx_queue_insert_tail(&shared->kept, q);
        }
    }
}


/* Makes an entry in place of what is there. NULL: there is no room, and what was there stays, unless it is a cache. */

static ngx_http_keybound_entry_t *
ngx_http_keybound_put(ngx_slab_pool_t *pool, kb_store *store, uint32_t hash, time_t ends)
{
    size_t                       size = offsetof(ngx_http_keybound_entry_t, data) + store->key.len + store->value.len;
    ngx_uint_t                   n;
    ngx_queue_t                 *q;
    ngx_http_keybound_entry_t   *entry, *old;
    ngx_http_keybound_shared_t  *shared = pool->data;

    entry = ngx_slab_alloc_locked(pool, size);

    for (n = 0; entry == NULL && n < NGX_HTTP_KEYBOUND_EVICT; n++) {
        ngx_http_keybound_look(pool);

        if (!ngx_queue_empty(&shared->caches)) {
            q = ngx_queue_last(&shared->caches);
            ngx_http_keybound_free(pool, ngx_queue_data(q, ngx_http_keybound_entry_t, queue));
        }

        entry = ngx_slab_alloc_locked(pool, size);
    }

    if (entry == NULL) {
        return NULL;
    }

    old = ngx_http_keybound_find(pool, store->key, hash);
    if (old) {
        ngx_http_keybound_free(pool, old);
    }

    entry->ends = ends;
    entry->len = store->value.len;
    entry->cache = store->flags & KB_STORE_CACHE;
    entry->node.str.len = store->key.len;
    entry->node.str.data = entry->data;
    entry->node.node.key = hash;
    ngx_memcpy(ngx_cpymem(entry->data, store->key.ptr, store->key.len), store->value.ptr, store->value.len);
    ngx_rbtree_insert(&shared->tree, &entry->node.node);
    ngx_queue_insert_head(entry->cache ? &shared->caches : &shared->kept, &entry->queue);

    return entry;
}


/* Performs the operation of a check, and feeds the answer back. */

int32_t
ngx_http_keybound_store(ngx_http_keybound_ctx_t *ctx, kb_store *store)
{
    u_char                      *copy;
    kb_str                       value = { NULL, 0 };
    uint32_t                     answer, hash;
    ngx_uint_t                   complain = 0;
    ngx_shm_zone_t              *zone = ctx->engine->setup.zone;
    ngx_slab_pool_t             *pool = zone->data;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared = pool->data;

    hash = ngx_murmur_hash2((u_char *) store->key.ptr, store->key.len);

    ngx_shmtx_lock(&pool->mutex);

    ngx_http_keybound_look(pool);
    entry = ngx_http_keybound_find(pool, store->key, hash);

    if (entry && entry->ends <= ngx_time()) {
        ngx_http_keybound_free(pool, entry);
        entry = NULL;
    }

    if (store->operation == KB_STORE_GET) {
        answer = entry ? KB_STORE_FOUND : KB_STORE_ABSENT;

    } else if (store->operation == KB_STORE_ADD && entry) {
        answer = KB_STORE_EXISTS;

    } else if (store->operation != KB_STORE_DELETE) {
        entry = ngx_http_keybound_put(pool, store, hash, ngx_time() + store->ttl_s);
        answer = entry ? KB_STORED : KB_STORE_FAILED;

    } else {
        answer = KB_STORED;

        if (entry) {
            ngx_http_keybound_free(pool, entry);
        }
    }

    if (answer == KB_STORE_FOUND) {
        copy = ngx_pnalloc(ctx->request->pool, entry->len + 1);

        if (copy) {
            ngx_memcpy(copy, entry->data + store->key.len, entry->len);
            value.ptr = copy;
            value.len = entry->len;

        } else {
            answer = KB_STORE_FAILED;
        }

        if (entry->cache) {
            ngx_queue_remove(&entry->queue);
            ngx_queue_insert_head(&shared->caches, &entry->queue);
        }
    }

    if (answer == KB_STORE_FAILED && ngx_time() >= shared->complained + NGX_HTTP_KEYBOUND_SILENCE) {
        shared->complained = ngx_time();
        complain = 1;
    }

    ngx_shmtx_unlock(&pool->mutex);

    if (complain) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "keybound: the shared store failed: keybound_zone \"%V\" is full: make it larger", &zone->shm.name);
    }

    return kb_check_stored(ctx->check, ngx_time(), answer, value);
}


/* The sums of all workers are named by what is counted: engines that count the same, also after a reload, share them. */

static ngx_atomic_t *
ngx_http_keybound_totals(ngx_http_keybound_engine_t *engine)
{
    size_t                      i;
    u_char                      key[32];
    kb_store                    store;
    uint32_t                    hash;
    ngx_sha1_t                  sha1;
    kb_counter                  counter;
    ngx_slab_pool_t            *pool = engine->setup.zone->data;
    ngx_http_keybound_entry_t  *entry;

    ngx_http_keybound_init(counter);
    ngx_http_keybound_init(store);
    ngx_sha1_init(&sha1);

    for (i = 0; kb_engine_counter(engine->engine, i, &counter) == KB_OK; i++) {
        ngx_sha1_update(&sha1, counter.sample.ptr, counter.sample.len);
    }

    /* Not those of the store, which are hashes all over. */

    ngx_memzero(key, sizeof(key));
    ngx_sha1_final(key, &sha1);
    store.key.ptr = key;
    store.key.len = sizeof(key);
    store.value.ptr = (uint8_t *) engine->published;
    store.value.len = engine->counters * sizeof(uint64_t);
    hash = ngx_murmur_hash2(key, sizeof(key));

    ngx_shmtx_lock(&pool->mutex);

    entry = ngx_http_keybound_find(pool, store.key, hash);

    if (entry == NULL) {
        entry = ngx_http_keybound_put(pool, &store, hash, NGX_MAX_TIME_T_VALUE);
    }

    ngx_shmtx_unlock(&pool->mutex);

    return entry ? (ngx_atomic_t *) (entry->data + sizeof(key)) : NULL;
}


/* Adds what the counters of this process grew by since the last time. */

void
ngx_http_keybound_publish(ngx_http_keybound_engine_t *engine)
{
    size_t     i, n;
    uint64_t  *now = engine->published + engine->counters;

    if (engine->setup.zone == NULL || kb_engine_counters(engine->engine, now, engine->counters, &n) != KB_OK) {
        return;
    }

    if (engine->totals == NULL) {
        engine->totals = ngx_http_keybound_totals(engine);
    }

    for (i = 0; i < n && engine->totals; i++) {
        if (now[i] != engine->published[i]) {
            (void) ngx_atomic_fetch_add(&engine->totals[i], now[i] - engine->published[i]);
            engine->published[i] = now[i];
        }
    }
}


ngx_int_t
ngx_http_keybound_metrics_handler(ngx_http_request_t *r)
{
    kb_str                          text = { NULL, 0 };
    kb_page                        *page;
    ngx_str_t                       type = ngx_string("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ngx_uint_t                      i, k;
    ngx_http_complex_value_t        cv;
    ngx_http_keybound_engine_t    **engines;
    ngx_http_keybound_loc_conf_t   *klcf = ngx_http_get_module_loc_conf(r, ngx_http_keybound_module);
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_get_module_main_conf(r, ngx_http_keybound_module);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    if (kb_page_new(&page) != KB_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    engines = kmcf->engines.elts;

    for (i = 0; i < kmcf->engines.nelts; i++) {
        if (engines[i]->setup.zone != klcf->setup.zone) {
            continue;
        }

        ngx_http_keybound_publish(engines[i]);

        for (k = 0; engines[k]->totals != engines[i]->totals; k++) { /* void */ }

        if (k == i && engines[i]->totals) {
            (void) kb_page_add(page, engines[i]->engine, (uint64_t *) engines[i]->totals, engines[i]->counters);
        }
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    if (kb_page_text(page, &text) == KB_OK) {
        cv.value.len = text.len;
        cv.value.data = ngx_pnalloc(r->pool, text.len);
    }

    if (cv.value.data) {
        ngx_memcpy(cv.value.data, text.ptr, text.len);
    }

    kb_page_free(page);

    return cv.value.data ? ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv) : NGX_HTTP_INTERNAL_SERVER_ERROR;
}
