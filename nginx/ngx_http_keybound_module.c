/*
 * keybound for nginx: lets a request through only if its access token is bound to the client certificate of the connection (RFC 8705).
 * Directives and variables: docs/nginx.md. What is decided, is decided by libkeybound.
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
static char *ngx_http_keybound(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_config(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_option(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_fetch_location(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_keybound_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/* The options of the directives that have a value in them, by the offset of these. */

static char  *ngx_http_keybound_options[NGX_HTTP_KEYBOUND_OPTIONS] = {
    "proof_of_possession_mtls", "scopes_required", "audience_required", "realm"
};

#define NGX_HTTP_KEYBOUND_ANYWHERE  (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)

static ngx_command_t  ngx_http_keybound_commands[] = {

    { ngx_string("keybound"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_keybound, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("keybound_config"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_keybound_config, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("keybound_mode"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_keybound_option, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("keybound_scope"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_keybound_option, NGX_HTTP_LOC_CONF_OFFSET, 1, NULL },

    { ngx_string("keybound_audience"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_1MORE,
      ngx_http_keybound_option, NGX_HTTP_LOC_CONF_OFFSET, 2, NULL },

    { ngx_string("keybound_realm"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_TAKE1,
      ngx_http_keybound_option, NGX_HTTP_LOC_CONF_OFFSET, 3, NULL },

    { ngx_string("keybound_zone"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_TAKE12,
      ngx_http_keybound_zone, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("keybound_fetch"), NGX_HTTP_KEYBOUND_ANYWHERE|NGX_CONF_TAKE12,
      ngx_http_keybound_fetch_location, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("keybound_metrics"), NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_keybound_metrics, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_keybound_module_ctx = {
    ngx_http_keybound_preconfiguration, ngx_http_keybound_postconfiguration,
    ngx_http_keybound_create_main_conf, NULL,
    NULL, NULL,
    ngx_http_keybound_create_loc_conf, ngx_http_keybound_merge_loc_conf
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


static ngx_str_t  ngx_http_keybound_sub = ngx_string("keybound_claim_sub");
static ngx_str_t  ngx_http_keybound_client_id = ngx_string("keybound_claim_client_id");
static ngx_str_t  ngx_http_keybound_scope = ngx_string("keybound_claim_scope");

static ngx_http_variable_t  ngx_http_keybound_variables[] = {
    { ngx_string("keybound_decision"), NULL, ngx_http_keybound_decision_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_reason"), NULL, ngx_http_keybound_decision_variable, 1, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_thumbprint"), NULL, ngx_http_keybound_thumbprint_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_fetch_url"), NULL, ngx_http_keybound_fetch_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_fetch_host"), NULL, ngx_http_keybound_fetch_variable, 1, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_fetch_uri"), NULL, ngx_http_keybound_fetch_variable, 2, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_fetch_certificate"), NULL, ngx_http_keybound_fetch_variable, 3, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_fetch_certificate_key"), NULL, ngx_http_keybound_fetch_variable, 4, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_subject"), NULL, ngx_http_keybound_claim_variable, (uintptr_t) &ngx_http_keybound_sub, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_client_id"), NULL, ngx_http_keybound_claim_variable, (uintptr_t) &ngx_http_keybound_client_id, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_scope"), NULL, ngx_http_keybound_claim_variable, (uintptr_t) &ngx_http_keybound_scope, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("keybound_claim_"), NULL, ngx_http_keybound_claim_variable, 0, NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_PREFIX, 0 },
      ngx_http_null_variable
};


/* Counters get into the zones a second after a request at the latest. */

static ngx_event_t  ngx_http_keybound_timer;


static ngx_int_t
ngx_http_keybound_preconfiguration(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    if (kb_abi_version() != KB_ABI_VERSION) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "keybound: libkeybound %s is not the one that this module was built for", kb_version());
        return NGX_ERROR;
    }

    for (v = ngx_http_keybound_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keybound_postconfiguration(ngx_conf_t *cf)
{
    ngx_str_t                       request_id = ngx_string("request_id");
    ngx_uint_t                      i;
    ngx_http_variable_t            *v, *own;
    ngx_http_handler_pt            *handler;
    ngx_http_core_main_conf_t      *cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keybound_module);

    kmcf->request_id = ngx_http_get_variable_index(cf, &request_id);
    if (kmcf->request_id == NGX_ERROR) {
        return NGX_ERROR;
    }

    /* Claims are kept only where a variable of them is in use. */

    for (v = cmcf->variables.elts, i = 0; i < cmcf->variables.nelts; i++) {
        for (own = ngx_http_keybound_variables; own->name.len; own++) {
            if (own->get_handler == ngx_http_keybound_claim_variable
                && ngx_strncmp(v[i].name.data, own->name.data, own->name.len) == 0)
            {
                kmcf->flags = KB_WANT_CLAIMS;
            }
        }
    }

    handler = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    if (handler == NULL) {
        return NGX_ERROR;
    }

    *handler = ngx_http_keybound_preaccess_handler;

    handler = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (handler == NULL) {
        return NGX_ERROR;
    }

    *handler = ngx_http_keybound_access_handler;

    ngx_http_keybound_filter_init();

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
        klcf->setup.mode = NGX_CONF_UNSET_UINT;
    }

    return klcf;
}


static void
ngx_http_keybound_free_engine(void *data)
{
    kb_engine_free(data);
}


/* The locations through which the engine's requests go. Each has one way to verify the server. */

static char *
ngx_http_keybound_profiles(ngx_conf_t *cf, ngx_http_keybound_engine_t *engine)
{
    kb_tls                         tls;
    ngx_str_t                      name;
    ngx_uint_t                     i, k;
    ngx_array_t                   *fetches = engine->setup.fetches;
    ngx_http_keybound_location_t  *location;
    ngx_http_keybound_profile_t   *profile, *other;

    ngx_http_keybound_init(tls);

    for (i = 0; kb_engine_tls(engine->engine, i, &tls) == KB_OK; i++) {
        profile = ngx_array_push(&engine->profiles);
        if (profile == NULL) {
            return "no memory";
        }

        ngx_http_keybound_from(name, tls.name);
        profile->tls = tls;
        profile->uri.len = 0;

        for (k = 0; fetches && k < fetches->nelts; k++) {
            location = (ngx_http_keybound_location_t *) fetches->elts + k;

            if (location->certificate.len == name.len && ngx_memcmp(location->certificate.data, name.data, name.len) == 0) {
                profile->uri = location->uri;
            }
        }

        if (profile->uri.len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "keybound_fetch: required, as the authorization server is asked %s%V%s",
                               name.len ? "with the client certificate \"" : "without client certificate", &name,
                               name.len ? "\": keybound_fetch LOCATION CERTIFICATE" : "");
            return NGX_CONF_ERROR;
        }

        for (k = 0; k < i; k++) {
            other = (ngx_http_keybound_profile_t *) engine->profiles.elts + k;

            if (ngx_strcmp(other->uri.data, profile->uri.data) == 0
                && (other->tls.verify != tls.verify || other->tls.trusted.len != tls.trusted.len
                    || ngx_memcmp(other->tls.trusted.ptr, tls.trusted.ptr, tls.trusted.len) != 0))
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "keybound_fetch: \"%V\" cannot verify servers in two ways: "
                                   "ssl_verify or ssl_trusted_certificate of issuers differ", &profile->uri);
                return NGX_CONF_ERROR;
            }
        }
    }

    return NGX_CONF_OK;
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


/* Makes an engine, and frees it with the cycle. */

static char *
ngx_http_keybound_make(ngx_conf_t *cf, ngx_http_keybound_engine_t *engine, ngx_array_t *settings)
{
    size_t                     len;
    u_char                     message[4096];
    kb_str                     warning;
    int32_t                    rc;
    ngx_str_t                  text;
    ngx_uint_t                 i;
    ngx_pool_cleanup_t        *cln;
    ngx_http_keybound_file_t  *file = engine->setup.file;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_CONF_ERROR;
    }

    rc = kb_engine_new_with(file->content.data, file->content.len, settings->elts, settings->nelts, &engine->engine,
                            message, sizeof(message), &len);

    if (rc != KB_OK) {
        text.data = rc == KB_E_CONFIG ? message : (u_char *) kb_strerror(rc);
        text.len = rc == KB_E_CONFIG ? ngx_min(len, sizeof(message)) : ngx_strlen(text.data);

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "keybound: %V (keybound_config \"%V\" in %s:%ui)%s", &text, &file->name, file->conf, file->line,
                      engine->setup.zone ? "" : "; what workers share needs a keybound_zone");
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_http_keybound_free_engine;
    cln->data = engine->engine;

    if (engine->setup.zone == NULL && kb_engine_shares(engine->engine)) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "keybound: store_secret: has no effect without keybound_zone (keybound_config \"%V\" in %s:%ui)",
                      &file->name, file->conf, file->line);
        return NGX_CONF_ERROR;
    }

    for (i = 0; kb_engine_warning(engine->engine, i, &warning) == KB_OK; i++) {
        ngx_http_keybound_from(text, warning);
        ngx_log_error(NGX_LOG_WARN, cf->log, 0, "keybound: %V (keybound_config \"%V\" in %s:%ui)", &text, &file->name, file->conf, file->line);
    }

    engine->needs = kb_engine_needs(engine->engine);
    engine->report = kb_engine_report_only(engine->engine);
    (void) kb_engine_counters(engine->engine, NULL, 0, &engine->counters);
    engine->published = ngx_pcalloc(cf->pool, 2 * engine->counters * sizeof(uint64_t));

    return engine->published ? ngx_http_keybound_profiles(cf, engine) : NGX_CONF_ERROR;
}


static ngx_http_keybound_engine_t *
ngx_http_keybound_engine(ngx_conf_t *cf, ngx_http_keybound_setup_t *setup)
{
    ngx_str_t                        yes = ngx_string("true");
    ngx_uint_t                       i, k;
    ngx_array_t                      settings, *values;
    ngx_http_keybound_engine_t     **engines, *engine;
    ngx_http_keybound_main_conf_t   *kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keybound_module);

    for (engines = kmcf->engines.elts, i = 0; i < kmcf->engines.nelts; i++) {
        if (ngx_memcmp(&engines[i]->setup, setup, sizeof(ngx_http_keybound_setup_t)) == 0) {
            return engines[i];
        }
    }

    engines = ngx_array_push(&kmcf->engines);
    engine = ngx_pcalloc(cf->pool, sizeof(ngx_http_keybound_engine_t));

    if (engines == NULL || engine == NULL
        || ngx_array_init(&engine->profiles, cf->pool, 2, sizeof(ngx_http_keybound_profile_t)) != NGX_OK
        || ngx_array_init(&settings, cf->temp_pool, 8, sizeof(kb_setting)) != NGX_OK)
    {
        return NULL;
    }

    *engines = engine;
    engine->setup = *setup;

    for (i = 0; i < NGX_HTTP_KEYBOUND_OPTIONS; i++) {
        values = setup->options[i];

        for (k = 0; values && k < values->nelts; k++) {
            if (ngx_http_keybound_set(&settings, ngx_http_keybound_options[i], (ngx_str_t *) values->elts + k, 0) != NGX_OK) {
                return NULL;
            }
        }
    }

    if ((setup->mode == NGX_HTTP_KEYBOUND_REPORT && ngx_http_keybound_set(&settings, "report_only", &yes, 0) != NGX_OK)
        || (setup->zone && ngx_http_keybound_set(&settings, "store_secret", &kmcf->secret, KB_SETTING_DEFAULT) != NGX_OK))
    {
        return NULL;
    }

    return ngx_http_keybound_make(cf, engine, &settings) == NGX_CONF_OK ? engine : NULL;
}


static char *
ngx_http_keybound_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_uint_t                     i;
    ngx_http_core_loc_conf_t      *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    ngx_http_keybound_setup_t     *prev = &((ngx_http_keybound_loc_conf_t *) parent)->setup;
    ngx_http_keybound_setup_t     *conf = &((ngx_http_keybound_loc_conf_t *) child)->setup;
    ngx_http_keybound_loc_conf_t  *klcf = child;

    ngx_conf_merge_uint_value(conf->mode, prev->mode, NGX_HTTP_KEYBOUND_OFF);
    conf->file = conf->file ? conf->file : prev->file;
    conf->zone = conf->zone ? conf->zone : prev->zone;
    conf->fetches = conf->fetches ? conf->fetches : prev->fetches;

    for (i = 0; i < NGX_HTTP_KEYBOUND_OPTIONS; i++) {
        conf->options[i] = conf->options[i] ? conf->options[i] : prev->options[i];
    }

    if (clcf->handler == ngx_http_keybound_metrics_handler && conf->zone == NULL) {
        return "keybound_metrics needs a keybound_zone";
    }

    if (conf->mode == NGX_HTTP_KEYBOUND_OFF) {
        return NGX_CONF_OK;
    }

    if (conf->file == NULL) {
        return "keybound_config: required where keybound is on";
    }

    klcf->engine = ngx_http_keybound_engine(cf, conf);

    return klcf->engine ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_keybound(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                     *value = cf->args->elts;
    ngx_http_keybound_loc_conf_t  *klcf = conf;

    if (klcf->setup.mode != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "on") == 0) {
        klcf->setup.mode = NGX_HTTP_KEYBOUND_ON;

    } else if (ngx_strcmp(value[1].data, "report") == 0) {
        klcf->setup.mode = NGX_HTTP_KEYBOUND_REPORT;

    } else if (ngx_strcmp(value[1].data, "off") == 0) {
        klcf->setup.mode = NGX_HTTP_KEYBOUND_OFF;

    } else {
        return "must be on, off or report";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keybound_config(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    off_t                          size;
    ssize_t                        n;
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

    size = ngx_fd_info(f.fd, &info) == NGX_FILE_ERROR ? 0 : ngx_file_size(&info);
    file->content.data = size > 0 && size <= NGX_HTTP_KEYBOUND_MAX_FILE ? ngx_palloc(cf->pool, size) : NULL;
    n = file->content.data ? ngx_read_file(&f, file->content.data, size, 0) : -1;

    if (ngx_close_file(f.fd) == NGX_FILE_ERROR || n != size) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" cannot be read, is empty or is too large", &f.name);
        return NGX_CONF_ERROR;
    }

    file->name = f.name;
    file->content.len = n;
    file->conf = cf->conf_file->file.name.data;
    file->line = cf->conf_file->line;
    klcf->setup.file = file;

    return NGX_CONF_OK;
}


static char *
ngx_http_keybound_option(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                      *value = cf->args->elts;
    ngx_array_t                    *values;
    ngx_http_keybound_loc_conf_t   *klcf = conf;

    if (klcf->setup.options[cmd->offset]) {
        return "is duplicate";
    }

    if (cmd->offset == 0 && ngx_strcmp(value[1].data, "strict") != 0 && ngx_strcmp(value[1].data, "optional") != 0
        && ngx_strcmp(value[1].data, "off") != 0)
    {
        return "must be strict, optional or off";
    }

    values = ngx_array_create(cf->pool, cf->args->nelts, sizeof(ngx_str_t));
    if (values == NULL) {
        return NGX_CONF_ERROR;
    }

    values->nelts = cf->args->nelts - 1;
    ngx_memcpy(values->elts, value + 1, values->nelts * sizeof(ngx_str_t));
    klcf->setup.options[cmd->offset] = values;

    return NGX_CONF_OK;
}


/* The key that seals what is in the zones: the same as long as there are zones that outlive a reload. */

static ngx_int_t
ngx_http_keybound_secret(ngx_conf_t *cf, ngx_str_t *secret)
{
    u_char                          key[32];
    ngx_str_t                       random = { sizeof(key), key };
    ngx_uint_t                      i;
    ngx_cycle_t                    *old = cf->cycle->old_cycle;
    ngx_http_keybound_main_conf_t  *kmcf;

    secret->data = ngx_pnalloc(cf->pool, ngx_base64_encoded_length(sizeof(key)));
    if (secret->data == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; old->conf_ctx && old->modules && old->modules[i]; i++) {
        if (old->modules[i] == &ngx_http_keybound_module) {
            kmcf = ngx_http_cycle_get_module_main_conf(old, ngx_http_keybound_module);

            if (kmcf && kmcf->secret.len) {
                secret->len = kmcf->secret.len;
                ngx_memcpy(secret->data, kmcf->secret.data, kmcf->secret.len);
                return NGX_OK;
            }
        }
    }

    if (RAND_bytes(key, sizeof(key)) != 1) {
        return NGX_ERROR;
    }

    ngx_encode_base64(secret, &random);
    ngx_explicit_memzero(key, sizeof(key));

    return NGX_OK;
}


static char *
ngx_http_keybound_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ssize_t                         size = 0;
    ngx_str_t                      *value = cf->args->elts;
    ngx_http_keybound_loc_conf_t   *klcf = conf;
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keybound_module);

    if (klcf->setup.zone) {
        return "is duplicate";
    }

    if (cf->args->nelts > 2) {
        size = ngx_parse_size(&value[2]);

        if (size == NGX_ERROR) {
            return "has a SIZE that is none, such as 10m";
        }

        if (size < (ssize_t) (8 * ngx_pagesize)) {
            return "is too small: its least SIZE is eight pages of memory";
        }
    }

    if (kmcf->secret.len == 0 && ngx_http_keybound_secret(cf, &kmcf->secret) != NGX_OK) {
        return "has no secret: the system has no randomness";
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
    ngx_uint_t                     i;
    ngx_str_t                     *value = cf->args->elts;
    ngx_http_keybound_location_t  *location;
    ngx_http_keybound_loc_conf_t  *klcf = conf;

    if (value[1].data[0] != '/') {
        return "must name a location that begins with a slash";
    }

    if (klcf->setup.fetches == NULL) {
        klcf->setup.fetches = ngx_array_create(cf->pool, 2, sizeof(ngx_http_keybound_location_t));

        if (klcf->setup.fetches == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    location = klcf->setup.fetches->elts;

    for (i = 0; i < klcf->setup.fetches->nelts; i++) {
        if (cf->args->nelts > 2 ? ngx_strcmp(location[i].certificate.data, value[2].data) == 0 : location[i].certificate.len == 0) {
            return "is duplicate";
        }
    }

    location = ngx_array_push(klcf->setup.fetches);
    if (location == NULL) {
        return NGX_CONF_ERROR;
    }

    location->uri = value[1];
    ngx_str_set(&location->certificate, "");

    if (cf->args->nelts > 2) {
        location->certificate = value[2];
    }

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
    ngx_http_keybound_main_conf_t   *kmcf = ev->data;

    for (engines = kmcf->engines.elts, i = 0; i < kmcf->engines.nelts; i++) {
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
    ngx_http_keybound_main_conf_t  *kmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_keybound_module);

    ngx_http_keybound_fetch_init();

    ngx_memzero(&ngx_http_keybound_timer, sizeof(ngx_event_t));
    ngx_http_keybound_timer.handler = ngx_http_keybound_publish_all;
    ngx_http_keybound_timer.log = cycle->log;
    ngx_http_keybound_timer.cancelable = 1;
    ngx_http_keybound_timer.data = kmcf;

    return NGX_OK;
}


static void
ngx_http_keybound_exit_process(ngx_cycle_t *cycle)
{
    if (ngx_http_keybound_timer.data) {
        ngx_http_keybound_publish_all(&ngx_http_keybound_timer);
    }
}
