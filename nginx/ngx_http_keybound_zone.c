/*
 * keybound_zone: what workers share. Entries of the store, which end by themselves, and sums of counters, which never do.
 */

#include "ngx_http_keybound.h"


#define NGX_HTTP_KEYBOUND_LOOK     2   /* kept entries that each operation looks at, whether they have ended */
#define NGX_HTTP_KEYBOUND_EVICT    64  /* caches that are given up for another one that finds no room, at most */
#define NGX_HTTP_KEYBOUND_SILENCE  10  /* seconds between two lines about a store that is full */


typedef struct {
    ngx_str_node_t     node;
    ngx_queue_t        queue;
    time_t             ends;
    size_t             len;
    size_t             cache;
    u_char             data[1];        /* key and value: both are aligned, as keys have 32 octets */
} ngx_http_keybound_entry_t;


typedef struct {
    ngx_rbtree_t       tree;
    ngx_rbtree_node_t  sentinel;
    ngx_queue_t        kept;           /* looked at in turn */
    ngx_queue_t        caches;         /* the least recently used at the end */
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

    shared = ngx_slab_calloc(pool, sizeof(ngx_http_keybound_shared_t));
    if (shared == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&shared->tree, &shared->sentinel, ngx_str_rbtree_insert_value);
    ngx_queue_init(&shared->kept);
    ngx_queue_init(&shared->caches);
    pool->log_nomem = 0;
    pool->data = shared;

    return NGX_OK;
}


static void
ngx_http_keybound_free(ngx_slab_pool_t *pool, ngx_http_keybound_entry_t *entry)
{
    ngx_rbtree_delete(&((ngx_http_keybound_shared_t *) pool->data)->tree, &entry->node.node);
    ngx_queue_remove(&entry->queue);
    ngx_slab_free_locked(pool, entry);
}


static ngx_http_keybound_entry_t *
ngx_http_keybound_find(ngx_slab_pool_t *pool, kb_str key)
{
    ngx_str_t                    name;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_http_keybound_from(name, key);
    entry = (ngx_http_keybound_entry_t *)
                ngx_str_rbtree_lookup(&shared->tree, &name, ngx_murmur_hash2(name.data, name.len));

    if (entry && entry->ends <= ngx_time()) {
        ngx_http_keybound_free(pool, entry);
        return NULL;
    }

    return entry;
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
ngx_http_keybound_put(ngx_slab_pool_t *pool, kb_store *store, time_t ends)
{
    size_t                       size = offsetof(ngx_http_keybound_entry_t, data) + store->key.len + store->value.len;
    ngx_uint_t                   n;
    ngx_queue_t                 *q;
    ngx_http_keybound_entry_t   *entry, *old;
    ngx_http_keybound_shared_t  *shared = pool->data;

    entry = ngx_slab_alloc_locked(pool, size);

    /* What is kept gets all the room of caches: a page of the slab is free for other sizes only when all of its entries are. */

    for (n = 0;
         entry == NULL
         && (n < NGX_HTTP_KEYBOUND_EVICT || (!(store->flags & KB_STORE_CACHE) && !ngx_queue_empty(&shared->caches)));
         n++)
    {
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

    old = ngx_http_keybound_find(pool, store->key);
    if (old) {
        ngx_http_keybound_free(pool, old);
    }

    entry->ends = ends;
    entry->len = store->value.len;
    entry->cache = store->flags & KB_STORE_CACHE;
    entry->node.node.key = ngx_murmur_hash2((u_char *) store->key.ptr, store->key.len);
    entry->node.str.len = store->key.len;
    entry->node.str.data = entry->data;
    ngx_memcpy(entry->data, store->key.ptr, store->key.len);

    if (store->value.ptr) {
        ngx_memcpy(entry->data + store->key.len, store->value.ptr, store->value.len);

    } else {
        ngx_memzero(entry->data + store->key.len, store->value.len);
    }

    ngx_rbtree_insert(&shared->tree, &entry->node.node);
    ngx_queue_insert_head(entry->cache ? &shared->caches : &shared->kept, &entry->queue);

    return entry;
}


/* Performs the operation of a check, and feeds the answer back. */

int32_t
ngx_http_keybound_store(ngx_http_keybound_ctx_t *ctx, kb_store *store)
{
    kb_str                       value = { NULL, 0 };
    uint32_t                     answer;
    ngx_str_t                    copy;
    ngx_uint_t                   complain;
    ngx_shm_zone_t              *zone = ctx->engine->setup.zone;
    ngx_slab_pool_t             *pool = zone->data;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_shmtx_lock(&pool->mutex);

    ngx_http_keybound_look(pool);
    entry = ngx_http_keybound_find(pool, store->key);

    if (store->operation == KB_STORE_PUT || (store->operation == KB_STORE_ADD && entry == NULL)) {
        answer = ngx_http_keybound_put(pool, store, ngx_time() + store->ttl_s) ? KB_STORED : KB_STORE_FAILED;

    } else if (store->operation == KB_STORE_ADD) {
        answer = KB_STORE_EXISTS;

    } else if (store->operation == KB_STORE_DELETE) {
        answer = KB_STORED;

        if (entry) {
            ngx_http_keybound_free(pool, entry);
        }

    } else if (entry == NULL) {
        answer = KB_STORE_ABSENT;

    } else {
        value.ptr = entry->data + store->key.len;
        value.len = entry->len;
        answer = ngx_http_keybound_copy(ctx->request->pool, &copy, value) == NGX_OK ? KB_STORE_FOUND : KB_STORE_FAILED;
        ngx_http_keybound_to(value, copy);

        if (entry->cache) {
            ngx_queue_remove(&entry->queue);
            ngx_queue_insert_head(&shared->caches, &entry->queue);
        }
    }

    complain = answer == KB_STORE_FAILED && ngx_time() >= shared->complained + NGX_HTTP_KEYBOUND_SILENCE;
    shared->complained = complain ? ngx_time() : shared->complained;

    ngx_shmtx_unlock(&pool->mutex);

    if (complain) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "keybound: the shared store failed: keybound_zone \"%V\" is full: make it larger", &zone->shm.name);
    }

    return kb_check_stored(ctx->check, ngx_time(), answer, value);
}


/* Adds what was counted to the sums of all workers. Engines that count the same, also after a reload, have the same sums. */

void
ngx_http_keybound_publish(ngx_http_keybound_engine_t *engine)
{
    uint8_t                     name[32];
    kb_store                    store;
    ngx_slab_pool_t            *pool;
    ngx_http_keybound_entry_t  *entry;

    if (engine->setup.zone == NULL) {
        return;
    }

    if (engine->sums == NULL && kb_engine_counters_name(engine->engine, &name) == KB_OK) {
        ngx_http_keybound_init(store);
        store.key.ptr = name;
        store.key.len = sizeof(name);
        store.value.len = engine->counters * sizeof(uint64_t);
        pool = engine->setup.zone->data;

        ngx_shmtx_lock(&pool->mutex);

        entry = ngx_http_keybound_find(pool, store.key);

        if (entry == NULL) {
            entry = ngx_http_keybound_put(pool, &store, NGX_MAX_TIME_T_VALUE);
        }

        ngx_shmtx_unlock(&pool->mutex);

        engine->sums = entry ? (uint64_t *) (entry->data + sizeof(name)) : NULL;

        if (entry == NULL && !engine->complained) {
            engine->complained = 1;
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "keybound: keybound_zone \"%V\" has no room for counters: make it larger",
                          &engine->setup.zone->shm.name);
        }
    }

    if (engine->sums) {
        (void) kb_engine_publish(engine->engine, engine->sums, engine->counters);
    }
}


ngx_int_t
ngx_http_keybound_metrics_handler(ngx_http_request_t *r)
{
    kb_str                          text;
    kb_page                        *page;
    ngx_str_t                       type = ngx_string("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ngx_int_t                       rc = NGX_ERROR;
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

    for (engines = kmcf->engines.elts, i = 0; i < kmcf->engines.nelts; i++) {
        if (engines[i]->setup.zone == klcf->setup.zone) {
            ngx_http_keybound_publish(engines[i]);

            for (k = 0; engines[k]->sums != engines[i]->sums; k++) { /* void */ }

            if (k == i && engines[i]->sums) {
                (void) kb_page_add(page, engines[i]->engine, engines[i]->sums, engines[i]->counters);
            }
        }
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    if (kb_page_text(page, &text) == KB_OK) {
        rc = ngx_http_keybound_copy(r->pool, &cv.value, text);
    }

    kb_page_free(page);

    return rc == NGX_OK ? ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv) : NGX_HTTP_INTERNAL_SERVER_ERROR;
}
