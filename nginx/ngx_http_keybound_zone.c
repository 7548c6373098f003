/*
 * keybound_zone: what workers share. Entries of the store, which end by themselves, and sums of counters, which never do.
 */

#include "ngx_http_keybound.h"


#define NGX_HTTP_KEYBOUND_KEY      32
#define NGX_HTTP_KEYBOUND_ENDED    2   /* entries that each operation frees, if they have ended */
#define NGX_HTTP_KEYBOUND_EVICT    64  /* caches that are given up for another one that finds no room, at most */
#define NGX_HTTP_KEYBOUND_SILENCE  10  /* seconds between two lines about a store that is full */


/* That of a proof has 128 octets with a value of 16, and a slab of nginx none to spare. */

typedef struct {
    ngx_rbtree_node_t     node;           /* by the key, which is a hash: its first octets are the node's */
    union {
        ngx_rbtree_node_t     kept;       /* by the time when it ends */
        struct {
            ngx_queue_t       queue;
            time_t            ends;
        } cache;
    } place;
    uint32_t              len;
    uint32_t              is_cache;
    u_char                data[1];        /* the value, aligned, and the rest of the key */
} ngx_http_keybound_entry_t;


typedef struct {
    ngx_rbtree_t       tree;
    ngx_rbtree_node_t  sentinel;
    ngx_rbtree_t       kept;
    ngx_rbtree_node_t  last;
    ngx_queue_t        caches;         /* the least recently used at the end */
    time_t             complained;
} ngx_http_keybound_shared_t;


#define ngx_http_keybound_rest(key)  ((key) + sizeof(ngx_rbtree_key_t))

static size_t  ngx_http_keybound_rest_len = NGX_HTTP_KEYBOUND_KEY - sizeof(ngx_rbtree_key_t);


static ngx_rbtree_key_t
ngx_http_keybound_first(const u_char *key)
{
    ngx_rbtree_key_t  first;

    ngx_memcpy(&first, key, sizeof(ngx_rbtree_key_t));

    return first;
}


static void
ngx_http_keybound_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_rbtree_node_t          **p;
    ngx_http_keybound_entry_t   *entry = (ngx_http_keybound_entry_t *) node, *other;

    for ( ;; ) {
        other = (ngx_http_keybound_entry_t *) temp;

        if (node->key != temp->key) {
            p = node->key < temp->key ? &temp->left : &temp->right;

        } else {
            p = ngx_memcmp(entry->data + entry->len, other->data + other->len, ngx_http_keybound_rest_len) < 0 ? &temp->left : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


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

    ngx_rbtree_init(&shared->tree, &shared->sentinel, ngx_http_keybound_insert);
    ngx_rbtree_init(&shared->kept, &shared->last, ngx_rbtree_insert_value);
    ngx_queue_init(&shared->caches);
    pool->log_nomem = 0;
    pool->data = shared;

    return NGX_OK;
}


static void
ngx_http_keybound_free(ngx_slab_pool_t *pool, ngx_http_keybound_entry_t *entry)
{
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_rbtree_delete(&shared->tree, &entry->node);

    if (entry->is_cache) {
        ngx_queue_remove(&entry->place.cache.queue);

    } else {
        ngx_rbtree_delete(&shared->kept, &entry->place.kept);
    }

    ngx_slab_free_locked(pool, entry);
}


static ngx_uint_t
ngx_http_keybound_has_ended(ngx_http_keybound_entry_t *entry)
{
    return (entry->is_cache ? entry->place.cache.ends : (time_t) entry->place.kept.key) <= ngx_time();
}


static ngx_http_keybound_entry_t *
ngx_http_keybound_find(ngx_slab_pool_t *pool, kb_str key)
{
    int                          order;
    ngx_rbtree_key_t             first = ngx_http_keybound_first(key.ptr);
    ngx_rbtree_node_t           *node;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared = pool->data;

    for (node = shared->tree.root; node != &shared->sentinel; node = order < 0 ? node->left : node->right) {
        entry = (ngx_http_keybound_entry_t *) node;

        if (first != node->key) {
            order = first < node->key ? -1 : 1;
            continue;
        }

        order = ngx_memcmp(ngx_http_keybound_rest(key.ptr), entry->data + entry->len, ngx_http_keybound_rest_len);

        if (order == 0) {
            if (!ngx_http_keybound_has_ended(entry)) {
                return entry;
            }

            ngx_http_keybound_free(pool, entry);
            break;
        }
    }

    return NULL;
}


/* The kept entry that ends next, or has ended. */

static ngx_http_keybound_entry_t *
ngx_http_keybound_next(ngx_slab_pool_t *pool)
{
    ngx_http_keybound_shared_t  *shared = pool->data;

    return shared->kept.root == &shared->last
           ? NULL : ngx_rbtree_data(ngx_rbtree_min(shared->kept.root, &shared->last), ngx_http_keybound_entry_t, place.kept);
}


/* Makes an entry in place of what is there. NULL: there is no room, and what was there stays, unless it is a cache. */

static ngx_http_keybound_entry_t *
ngx_http_keybound_put(ngx_slab_pool_t *pool, kb_store *store, time_t ends)
{
    size_t                       size = offsetof(ngx_http_keybound_entry_t, data) + ngx_http_keybound_rest_len + store->value.len;
    ngx_uint_t                   n;
    ngx_queue_t                 *q;
    ngx_http_keybound_entry_t   *entry, *old;
    ngx_http_keybound_shared_t  *shared = pool->data;

    /*
     * First goes what has ended, all of it if need be. Then caches: what is kept gets all of their room, since a page of the slab is free
     * for other sizes only when all of its entries are.
     */

    for (n = 0; (entry = ngx_slab_alloc_locked(pool, size)) == NULL; ) {
        old = ngx_http_keybound_next(pool);

        if (old == NULL || !ngx_http_keybound_has_ended(old)) {
            if (ngx_queue_empty(&shared->caches) || (n++ == NGX_HTTP_KEYBOUND_EVICT && (store->flags & KB_STORE_CACHE))) {
                return NULL;
            }

            q = ngx_queue_last(&shared->caches);
            old = ngx_queue_data(q, ngx_http_keybound_entry_t, place.cache.queue);
        }

        ngx_http_keybound_free(pool, old);
    }

    old = ngx_http_keybound_find(pool, store->key);
    if (old) {
        ngx_http_keybound_free(pool, old);
    }

    entry->node.key = ngx_http_keybound_first(store->key.ptr);
    entry->len = store->value.len;
    entry->is_cache = store->flags & KB_STORE_CACHE;

    if (store->value.ptr) {
        ngx_memcpy(entry->data, store->value.ptr, store->value.len);

    } else {
        ngx_memzero(entry->data, store->value.len);
    }

    ngx_memcpy(entry->data + entry->len, ngx_http_keybound_rest(store->key.ptr), ngx_http_keybound_rest_len);
    ngx_rbtree_insert(&shared->tree, &entry->node);

    if (entry->is_cache) {
        entry->place.cache.ends = ends;
        ngx_queue_insert_head(&shared->caches, &entry->place.cache.queue);

    } else {
        entry->place.kept.key = ends;
        ngx_rbtree_insert(&shared->kept, &entry->place.kept);
    }

    return entry;
}


/* Performs the operation of a check, and feeds the answer back. */

int32_t
ngx_http_keybound_store(ngx_http_keybound_ctx_t *ctx, kb_store *store)
{
    kb_str                       value = { NULL, 0 };
    uint32_t                     answer;
    ngx_str_t                    copy;
    ngx_uint_t                   n, complain;
    ngx_shm_zone_t              *zone = ctx->engine->setup.zone;
    ngx_slab_pool_t             *pool = zone->data;
    ngx_http_keybound_entry_t   *entry;
    ngx_http_keybound_shared_t  *shared = pool->data;

    ngx_shmtx_lock(&pool->mutex);

    for (n = 0; n < NGX_HTTP_KEYBOUND_ENDED; n++) {
        entry = ngx_http_keybound_next(pool);

        if (entry && ngx_http_keybound_has_ended(entry)) {
            ngx_http_keybound_free(pool, entry);
        }
    }

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
        value.ptr = entry->data;
        value.len = entry->len;
        answer = ngx_http_keybound_copy(ctx->request->pool, &copy, value) == NGX_OK ? KB_STORE_FOUND : KB_STORE_FAILED;
        ngx_http_keybound_to(value, copy);

        if (entry->is_cache) {
            ngx_queue_remove(&entry->place.cache.queue);
            ngx_queue_insert_head(&shared->caches, &entry->place.cache.queue);
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
    uint8_t                     name[NGX_HTTP_KEYBOUND_KEY];
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

        engine->sums = entry ? (uint64_t *) entry->data : NULL;

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
