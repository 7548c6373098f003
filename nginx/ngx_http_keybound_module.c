/*
 * keybound for nginx: lets a request through only if its access token is bound to the client certificate of the connection (RFC 8705), or to
 * the key of a DPoP proof (RFC 9449). Here is the configuration; docs/nginx.md explains it. What is decided, is decided by libkeybound.
 */

#include "ngx_http_keybound.h"


#define NGX_HTTP_KEYBOUND_OFF       0
#define NGX_HTTP_KEYBOUND_ON        1
#define NGX_HTTP_KEYBOUND_REPORT    2

/* Larger than any configuration that the library takes. */

#define NGX_HTTP_KEYBOUND_MAX_FILE  (1024 * 1024)


static ngx_int_t ngx_http_keybound_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_keybound_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_keybound_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_keybound_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_keybound_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);
static ngx_int_t ngx_http_keybound_init_process(ngx_cycle_t *cycle);
static void ngx_http_keybound_exit_process(ngx_cycle_t *cycle);
static char *ngx_http_keybound_enable(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_option(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_fetch_location(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/* The key that seals what is in the zones. It lives as long as they can: in the master, over reloads. */

static u_char       ngx_http_keybound_secret[ngx_base64_encoded_length(32)];

/* Counters get into the zones a second after a request at the latest. */

static ngx_event_t  ngx_http_keybound_timer;


#define ngx_http_keybound_directive(name, args, handler, member, post)                                     \
    { ngx_string(name), NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|args, handler,              \
      NGX_HTTP_LOC_CONF_OFFSET, offsetof(ngx_http_keybound_loc_conf_t, setup.member), post }

static ngx_command_t  ngx_http_keybound_commands[] = {
    ngx_http_keybound_directive("keybound", NGX_CONF_TAKE1, ngx_http_keybound_enable, enable, NULL),
    ngx_http_keybound_directive("keybound_config", NGX_CONF_TAKE1, ngx_http_keybound_file, file, NULL),
    ngx_http_keybound_directive("keybound_mode", NGX_CONF_TAKE1, ngx_http_keybound_option, mode, "proof_of_possession_mtls"),
    ngx_http_keybound_directive("keybound_dpop", NGX_CONF_TAKE1, ngx_http_keybound_option, dpop, "proof_of_possession_dpop"),
    ngx_http_keybound_directive("keybound_scope", NGX_CONF_1MORE, ngx_http_keybound_option, scope, "scopes_required"),
    ngx_http_keybound_directive("keybound_audience", NGX_CONF_1MORE, ngx_http_keybound_option, audience, "audience_required"),
    ngx_http_keybound_directive("keybound_realm", NGX_CONF_TAKE1, ngx_http_keybound_option, realm, "realm"),
    ngx_http_keybound_directive("keybound_zone", NGX_CONF_TAKE12, ngx_http_keybound_zone, zone, NULL),
    ngx_http_keybound_directive("keybound_fetch", NGX_CONF_TAKE12, ngx_http_keybound_fetch_location, fetches, NULL),
    { ngx_string("keybound_metrics"), NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS, ngx_http_keybound_metrics, 0, 0, NULL },
      ngx_null_command
};


static ngx_http_module_t  ngx_http_keybound_module_ctx = {
    ngx_http_keybound_preconfiguration,    /* preconfiguration */
    ngx_http_keybound_postconfiguration,   /* postconfiguration */
    ngx_http_keybound_create_main_conf,    /* create main configuration */
    NULL,                                  /* init main configuration */
    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */
    ngx_http_keybound_create_loc_conf,     /* create location configuration */
    ngx_http_keybound_merge_loc_conf       /* merge location configuration */
};


ngx_module_t  ngx_http_keybound_module = {
    NGX_MODULE_V1,
    &ngx_http_keybound_module_ctx,         /* module context */
    ngx_http_keybound_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_keybound_init_process,        /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_keybound_exit_process,        /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void
ngx_http_keybound_log(ngx_conf_t *cf, ngx_uint_t level, ngx_http_keybound_engine_t *engine, const void *text, size_t len)
{
    ngx_http_keybound_file_t  *file = engine->setup.file;

    ngx_log_error(level, cf->log, 0, "keybound_config \"%V\" in %s:%ui: %*s", &file->name, file->conf, file->line, len, text);
}


static ngx_int_t
ngx_http_keybound_preconfiguration(ngx_conf_t *cf)
{
    if (kb_abi_version() != KB_ABI_VERSION) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "keybound: this module was not built for libkeybound %s", kb_version());
        return NGX_ERROR;
    }

    if (!kb_ssl_supported()) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "keybound: this nginx has no OpenSSL of 1.1.1 or later");
        return NGX_ERROR;
    }

    return ngx_http_keybound_add_variables(cf);
}


static ngx_int_t
ngx_http_keybound_postconfiguration(ngx_conf_t *cf)
{
    u_char                          message[256], lowcase[128];
    kb_str                          name;
    ngx_str_t                       request_id = ngx_string("request_id"), peer = ngx_string("remote_addr");
    ngx_str_t                       realip = ngx_string("realip_remote_addr");
    ngx_uint_t                      i, k, hash;
    ngx_hash_key_t                 *key;
    ngx_http_handler_pt            *preaccess, *access;
    ngx_http_keybound_engine_t    **engines;
    ngx_http_core_main_conf_t      *cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keybound_module);

    /* Where nginx has the realip module, it knows who was there before. */

    for (key = cmcf->variables_keys->keys.elts, i = 0; i < cmcf->variables_keys->keys.nelts; i++) {
        if (key[i].key.len == realip.len && ngx_strncmp(key[i].key.data, realip.data, realip.len) == 0) {
            peer = realip;
        }
    }

    kmcf->request_id = ngx_http_get_variable_index(cf, &request_id);
    kmcf->peer = ngx_http_get_variable_index(cf, &peer);
    kmcf->flags = ngx_http_keybound_wants_claims(cmcf);

    preaccess = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    access = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);

    if (preaccess == NULL || access == NULL || kmcf->request_id == NGX_ERROR || kmcf->peer == NGX_ERROR) {
        return NGX_ERROR;
    }

    /* For these nginx has places of its own, where a client's would stay. */

    for (engines = kmcf->engines.elts, i = 0; i < kmcf->engines.nelts; i++) {
        for (k = 0; kb_engine_upstream_header(engines[i]->engine, k, &name) == KB_OK; k++) {

            /* nginx's own are shorter. */

            if (name.len > sizeof(lowcase)) {
                continue;
            }

            hash = ngx_hash_strlow(lowcase, (u_char *) name.ptr, name.len);

            if (ngx_hash_find(&cmcf->headers_in_hash, hash, lowcase, name.len)) {
                ngx_http_keybound_log(cf, NGX_LOG_EMERG, engines[i], message, ngx_snprintf(message, sizeof(message),
                    "upstream_headers_names: %*s has a meaning of its own in nginx", name.len, name.ptr) - message);
                return NGX_ERROR;
            }
        }
    }

    *preaccess = ngx_http_keybound_preaccess_handler;
    *access = ngx_http_keybound_access_handler;
    ngx_http_keybound_add_filter();

    return NGX_OK;
}


static void *
ngx_http_keybound_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_keybound_main_conf_t  *kmcf;

    kmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_keybound_main_conf_t));

    if (kmcf == NULL || ngx_array_init(&kmcf->engines, cf->pool, 4, sizeof(ngx_http_keybound_engine_t *)) != NGX_OK) {
        return NULL;
    }

    return kmcf;
}


static void *
ngx_http_keybound_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_keybound_loc_conf_t  *klcf;

    klcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_keybound_loc_conf_t));

    if (klcf) {
        klcf->setup.enable = NGX_CONF_UNSET_UINT;
    }

    return klcf;
}


/* Each client certificate of the engine's, and none, has a location; each location has one way to verify servers. */

static ngx_int_t
ngx_http_keybound_locations(ngx_conf_t *cf, ngx_http_keybound_engine_t *engine)
{
    u_char                         message[256];
    kb_tls                         tls, other;
    ngx_uint_t                     i, k;
    ngx_array_t                   *fetches = engine->setup.fetches;
    ngx_http_keybound_location_t  *location, **found;

    ngx_http_keybound_init(tls);
    ngx_http_keybound_init(other);

    for (i = 0; (engine->needs & KB_NEEDS_FETCH) && kb_engine_tls(engine->engine, i, &tls) == KB_OK; i++) {
        found = ngx_array_push(&engine->locations);
        if (found == NULL) {
            return NGX_ERROR;
        }

        *found = NULL;

        for (k = 0; fetches && k < fetches->nelts; k++) {
            location = (ngx_http_keybound_location_t *) fetches->elts + k;

            if (location->certificate.len == tls.name.len && ngx_memcmp(location->certificate.data, tls.name.ptr, tls.name.len) == 0) {
                *found = location;
            }
        }

        if (*found == NULL) {
            ngx_http_keybound_log(cf, NGX_LOG_EMERG, engine, message, ngx_snprintf(message, sizeof(message),
                "keybound_fetch: required: the authorization server is asked with%s client certificate %*s",
                tls.name.len ? "" : "out", tls.name.len, tls.name.ptr) - message);
            return NGX_ERROR;
        }

        for (k = 0; k < i && kb_engine_tls(engine->engine, k, &other) == KB_OK; k++) {
            if (((ngx_http_keybound_location_t **) engine->locations.elts)[k] == *found) {
                ngx_http_keybound_log(cf, NGX_LOG_EMERG, engine, message, ngx_snprintf(message, sizeof(message),
                    "keybound_fetch: %V cannot verify servers in two ways: issuers differ in ssl_trusted_certificate or ssl_verify",
                    &(*found)->uri) - message);
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static void
ngx_http_keybound_engine_cleanup(void *data)
{
    kb_engine_free(data);
}


static ngx_int_t
ngx_http_keybound_set(ngx_array_t *settings, char *option, ngx_str_t *value, uint32_t flags)
{
    kb_setting  *setting;

    setting = ngx_array_push(settings);
    if (setting == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(setting, sizeof(kb_setting));
    setting->name.ptr = (uint8_t *) option;
    setting->name.len = ngx_strlen(option);
    ngx_http_keybound_to(setting->value, *value);
    setting->flags = flags;

    return NGX_OK;
}


/* The engine of a setup. It ends with the cycle. */

static ngx_http_keybound_engine_t *
ngx_http_keybound_engine(ngx_conf_t *cf, ngx_http_keybound_setup_t *setup)
{
    size_t                           len = 0;
    u_char                           message[4096], store[] = "store_secret: required";
    kb_str                           text;
    int32_t                          rc;
    ngx_str_t                        yes = ngx_string("true"), key = { sizeof(ngx_http_keybound_secret), ngx_http_keybound_secret };
    ngx_uint_t                       i;
    kb_setting                      *setting;
    ngx_array_t                      settings, *options[] = { setup->mode, setup->dpop, setup->scope, setup->audience, setup->realm };
    ngx_pool_cleanup_t              *cln;
    ngx_http_keybound_engine_t     **engines, *engine;
    ngx_http_keybound_main_conf_t   *kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keybound_module);

    for (engines = kmcf->engines.elts, i = 0; i < kmcf->engines.nelts; i++) {
        if (ngx_memcmp(&engines[i]->setup, setup, sizeof(ngx_http_keybound_setup_t)) == 0) {
            return engines[i];
        }
    }

    engines = ngx_array_push(&kmcf->engines);
    engine = ngx_pcalloc(cf->pool, sizeof(ngx_http_keybound_engine_t));
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (engines == NULL || engine == NULL || cln == NULL
        || ngx_array_init(&engine->locations, cf->pool, 2, sizeof(ngx_http_keybound_location_t *)) != NGX_OK
        || ngx_array_init(&settings, cf->temp_pool, 8, sizeof(kb_setting)) != NGX_OK
        || (setup->enable == NGX_HTTP_KEYBOUND_REPORT && ngx_http_keybound_set(&settings, "report_only", &yes, 0) != NGX_OK)
        || (setup->zone && ngx_http_keybound_set(&settings, "store_secret", &key, KB_SETTING_DEFAULT) != NGX_OK))
    {
        return NULL;
    }

    *engines = engine;
    engine->setup = *setup;

    for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (options[i]) {
            setting = ngx_array_push_n(&settings, options[i]->nelts);
            if (setting == NULL) {
                return NULL;
            }

            ngx_memcpy(setting, options[i]->elts, options[i]->nelts * sizeof(kb_setting));
        }
    }

    rc = kb_engine_new_with(setup->file->content.data, setup->file->content.len, settings.elts, settings.nelts,
                            &engine->engine, message, sizeof(message), &len);

    if (rc != KB_OK) {
        len = rc == KB_E_CONFIG ? ngx_min(len, sizeof(message)) : (size_t) (ngx_sprintf(message, "%s", kb_strerror(rc)) - message);

        /* What is missing is a directive, whatever the library calls it. */

        if (setup->zone == NULL && len > sizeof(store) - 1 && ngx_strncmp(message, store, sizeof(store) - 1) == 0) {
            len = ngx_slprintf(message + len, message + sizeof(message), ": a keybound_zone makes one") - message;
        }

        ngx_http_keybound_log(cf, NGX_LOG_EMERG, engine, message, len);
        return NULL;
    }

    cln->handler = ngx_http_keybound_engine_cleanup;
    cln->data = engine->engine;

    if (setup->zone == NULL && kb_engine_shares(engine->engine)) {
        ngx_http_keybound_log(cf, NGX_LOG_EMERG, engine, "store_secret: needs a keybound_zone", sizeof("store_secret: needs a keybound_zone") - 1);
        return NULL;
    }

    for (i = 0; kb_engine_warning(engine->engine, i, &text) == KB_OK; i++) {
        ngx_http_keybound_log(cf, NGX_LOG_WARN, engine, text.ptr, text.len);
    }

    while (kb_engine_upstream_header(engine->engine, engine->headers, &text) == KB_OK) {
        engine->headers++;
    }

    engine->needs = kb_engine_needs(engine->engine);
    engine->report = kb_engine_report_only(engine->engine);
    (void) kb_engine_counters(engine->engine, NULL, 0, &engine->counters);

    return ngx_http_keybound_locations(cf, engine) == NGX_OK ? engine : NULL;
}


static char *
ngx_http_keybound_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_uint_t                     i;
    ngx_http_core_loc_conf_t      *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    ngx_http_keybound_loc_conf_t  *prev = parent, *conf = child;

    ngx_conf_merge_uint_value(conf->setup.enable, prev->setup.enable, NGX_HTTP_KEYBOUND_OFF);

    /* All before it are pointers. */

    for (i = 0; i < offsetof(ngx_http_keybound_setup_t, enable) / sizeof(void *); i++) {
        if (((void **) &conf->setup)[i] == NULL) {
            ((void **) &conf->setup)[i] = ((void **) &prev->setup)[i];
        }
    }

    if (clcf->handler == ngx_http_keybound_metrics_handler && conf->setup.zone == NULL) {
        return "keybound_metrics needs a keybound_zone";
    }

    if (conf->setup.enable == NGX_HTTP_KEYBOUND_OFF) {
        return NGX_CONF_OK;
    }

    if (conf->setup.file == NULL) {
        return "keybound needs a keybound_config";
    }

    conf->engine = ngx_http_keybound_engine(cf, &conf->setup);

    return conf->engine ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_keybound_enable(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                     *value = cf->args->elts;
    ngx_http_keybound_loc_conf_t  *klcf = conf;

    if (klcf->setup.enable != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    klcf->setup.enable = ngx_strcmp(value[1].data, "on") == 0 ? NGX_HTTP_KEYBOUND_ON
                         : ngx_strcmp(value[1].data, "report") == 0 ? NGX_HTTP_KEYBOUND_REPORT : NGX_HTTP_KEYBOUND_OFF;

    if (klcf->setup.enable == NGX_HTTP_KEYBOUND_OFF && ngx_strcmp(value[1].data, "off") != 0) {
        return "must be on, off or report";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keybound_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ssize_t                        n = NGX_ERROR;
    ngx_str_t                     *value = cf->args->elts;
    ngx_file_t                     f;
    ngx_file_info_t                info;
    ngx_http_keybound_file_t      *file;
    ngx_http_keybound_loc_conf_t  *klcf = conf;

    if (klcf->setup.file) {
        return "is duplicate";
    }

    file = ngx_pcalloc(cf->pool, sizeof(ngx_http_keybound_file_t));

    if (file == NULL || ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&f, sizeof(ngx_file_t));
    f.name = value[1];
    f.log = cf->log;
    f.fd = ngx_open_file(f.name.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (f.fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, ngx_open_file_n " \"%V\" failed", &f.name);
        return NGX_CONF_ERROR;
    }

    if (ngx_fd_info(f.fd, &info) != NGX_FILE_ERROR && ngx_file_size(&info) <= NGX_HTTP_KEYBOUND_MAX_FILE) {
        file->content.len = ngx_file_size(&info);
        file->content.data = ngx_palloc(cf->pool, file->content.len + 1);
        n = file->content.data ? ngx_read_file(&f, file->content.data, file->content.len, 0) : NGX_ERROR;
    }

    (void) ngx_close_file(f.fd);

    if (n < 0 || (size_t) n != file->content.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" cannot be read, or is larger than 1m", &f.name);
        return NGX_CONF_ERROR;
    }

    file->name = f.name;
    file->conf = cf->conf_file->file.name.data;
    file->line = cf->conf_file->line;
    klcf->setup.file = file;

    return NGX_CONF_OK;
}


static char *
ngx_http_keybound_option(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t     *value = cf->args->elts;
    ngx_uint_t     i;
    ngx_array_t  **settings = (ngx_array_t **) ((u_char *) conf + cmd->offset);

    if (*settings) {
        return "is duplicate";
    }

    if ((cmd->offset == offsetof(ngx_http_keybound_loc_conf_t, setup.mode) || cmd->offset == offsetof(ngx_http_keybound_loc_conf_t, setup.dpop))
        && ngx_strcmp(value[1].data, "strict") != 0 && ngx_strcmp(value[1].data, "optional") != 0 && ngx_strcmp(value[1].data, "off") != 0)
    {
        return "must be strict, optional or off";
    }

    *settings = ngx_array_create(cf->pool, cf->args->nelts, sizeof(kb_setting));
    if (*settings == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {
        if (ngx_http_keybound_set(*settings, cmd->post, &value[i], 0) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keybound_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    u_char                         random[32];
    ssize_t                        size = 0;
    ngx_str_t                     *value = cf->args->elts, key = { sizeof(random), random };
    ngx_str_t                      secret = { 0, ngx_http_keybound_secret };
    ngx_http_keybound_loc_conf_t  *klcf = conf;

    if (klcf->setup.zone) {
        return "is duplicate";
    }

    if (cf->args->nelts > 2) {
        size = ngx_parse_size(&value[2]);

        if (size == NGX_ERROR || size < (ssize_t) (8 * ngx_pagesize)) {
            return "must have a size, such as 10m, of eight pages of memory at least";
        }
    }

    if (ngx_http_keybound_secret[0] == '\0') {
        if (RAND_bytes(random, sizeof(random)) != 1) {
            return "has no secret, as the system has no randomness";
        }

        ngx_encode_base64(&secret, &key);
        ngx_explicit_memzero(random, sizeof(random));
    }

    klcf->setup.zone = ngx_shared_memory_add(cf, &value[1], size, &ngx_http_keybound_module);
    if (klcf->setup.zone == NULL) {
        return NGX_CONF_ERROR;
    }

    klcf->setup.zone->init = ngx_http_keybound_zone_init;

    return NGX_CONF_OK;
}


static char *
ngx_http_keybound_fetch_location(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                     *value = cf->args->elts, none = ngx_string("");
    ngx_str_t                     *certificate = cf->args->nelts > 2 ? &value[2] : &none;
    ngx_uint_t                     i;
    ngx_http_keybound_location_t  *location;
    ngx_http_keybound_loc_conf_t  *klcf = conf;

    if (klcf->setup.fetches == NULL) {
        klcf->setup.fetches = ngx_array_create(cf->pool, 2, sizeof(ngx_http_keybound_location_t));
    }

    if (value[1].data[0] != '/') {
        return "must name a location that begins with a slash";
    }

    for (i = 0; klcf->setup.fetches && i < klcf->setup.fetches->nelts; i++) {
        location = (ngx_http_keybound_location_t *) klcf->setup.fetches->elts + i;

        if (ngx_strcmp(location->certificate.data, certificate->data) == 0) {
            return "is duplicate";
        }
    }

    location = klcf->setup.fetches ? ngx_array_push(klcf->setup.fetches) : NULL;
    if (location == NULL) {
        return NGX_CONF_ERROR;
    }

    location->uri = value[1];
    location->certificate = *certificate;

    return NGX_CONF_OK;
}


static char *
ngx_http_keybound_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    clcf->handler = ngx_http_keybound_metrics_handler;

    return NGX_CONF_OK;
}


static void
ngx_http_keybound_publish_all(ngx_event_t *ev)
{
    ngx_uint_t                       i;
    ngx_http_keybound_engine_t     **engines;
    ngx_http_keybound_main_conf_t   *kmcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_keybound_module);

    for (i = 0; kmcf && i < kmcf->engines.nelts; i++) {
        engines = kmcf->engines.elts;
        ngx_http_keybound_publish(engines[i]);
    }
}


void
ngx_http_keybound_count(void)
{
    if (!ngx_http_keybound_timer.timer_set) {
        ngx_add_timer(&ngx_http_keybound_timer, 1000);
    }
}


static ngx_int_t
ngx_http_keybound_init_process(ngx_cycle_t *cycle)
{
    ngx_http_keybound_fetch_init();

    ngx_http_keybound_timer.handler = ngx_http_keybound_publish_all;
    ngx_http_keybound_timer.log = cycle->log;
    ngx_http_keybound_timer.data = &ngx_http_keybound_timer;
    ngx_http_keybound_timer.cancelable = 1;

    return ngx_http_keybound_request_init();
}


static void
ngx_http_keybound_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_keybound_publish_all(NULL);
}
