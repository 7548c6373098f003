//! Layer 3: the engine and the one call of the hot path.

use std::sync::{Arc, Mutex, OnceLock};

use super::check::{kb_check, kb_response};
use super::guard::guarded;
use super::http::{self, kb_http};
use super::{
    KB_E_ARGUMENT, KB_E_NO_OPENSSL, KB_E_NULL, KB_E_PANIC, KB_E_RANGE, KB_OK, KB_STEP_ALLOW, KB_STEP_RESPOND,
    Versioned, certificate, free_handle, kb_str, new_handle, openssl, read_versioned, write, write_versioned,
};
use crate::binding::Scheme;
use crate::cert::ClientCertificate;
use crate::engine::{Engine, Request, Setting, TlsProfile};
use crate::metrics::Counter;
use crate::reason::Reason;

/// Set in `kb_facts.flags`: the request came in TLS 1.3 early data. Not needed with `ssl`, which tells it itself.
pub const KB_FACT_EARLY_DATA: u32 = 1;
/// Set in `kb_facts.flags`: an allowed request's decision has a check that holds the claims. One that passed by `report_only` has none.
pub const KB_WANT_CLAIMS: u32 = 2;

/// Set in `kb_setting.flags`: it holds only where the configuration does not have the option.
pub const KB_SETTING_DEFAULT: u32 = 1;

/// `kb_engine_needs()`: `kb_facts.http` must be set.
pub const KB_NEEDS_HTTP: u32 = 1;
/// `kb_engine_needs()`: `kb_http.form` must be set for the body of a form.
pub const KB_NEEDS_FORM: u32 = 2;
/// `kb_engine_needs()`: logins, sessions and proofs need the shared store. Without it nobody logs in, no token is refreshed, and no proof
/// is taken.
pub const KB_NEEDS_STORE: u32 = 4;
/// `kb_engine_needs()`: steps can be `KB_STEP_FETCH`.
pub const KB_NEEDS_FETCH: u32 = 8;
/// `kb_engine_needs()`, with `KB_NEEDS_HTTP`: proofs are taken. Only for requests with the scheme `DPoP` they are looked for.
pub const KB_NEEDS_PROOF: u32 = 16;
/// `kb_engine_needs()`, with `KB_NEEDS_HTTP`: logins, sessions or grants are decided from `kb_facts.http`. Without it `kb_http` may be empty, but
/// for its size, where the scheme is not `DPoP`.
pub const KB_NEEDS_LOGIN: u32 = 32;
/// `kb_engine_needs()`: `DPoP-Nonce` is to be removed from what the upstream answers: clients would take its nonces for this engine's, which
/// they are given by `kb_check_response_header()`.
pub const KB_NEEDS_FILTER: u32 = 64;

/// Decides about requests. May be used by several threads at once; one for each nginx worker is the usual way.
pub struct kb_engine {
    pub(super) engine: Arc<Engine>,
    warnings: Vec<String>,
    counters: OnceLock<Vec<Counter>>,
    /// What `kb_engine_publish()` has added so far.
    pub(super) published: Mutex<Vec<u64>>,
}

impl kb_engine {
    fn of(engine: Engine) -> kb_engine {
        let warnings = engine.warnings().collect();
        kb_engine { engine: Arc::new(engine), warnings, counters: OnceLock::new(), published: Mutex::default() }
    }

    /// What each of its counters counts.
    pub(super) fn described(&self) -> &[Counter] {
        self.counters.get_or_init(|| self.engine.describe_counters())
    }
}

/// An option that the host has by its own means, besides the configuration.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_setting {
    /// The option (docs/configuration.md)
    pub name: kb_str,
    /// Its value as text: of an array one element, and as many settings as it is to have elements; of a number its digits, of a boolean `true`
    /// or `false`, of anything else the string
    pub value: kb_str,
    /// `KB_SETTING_DEFAULT`; without it the option takes the place of what the configuration says
    pub flags: u32,
    /// 0
    pub reserved: u32,
}

impl kb_setting {
    /// # Safety
    /// The pointers have the given lengths, for as long as the result is used.
    unsafe fn get<'a>(&self) -> Result<Setting<'a>, i32> {
        // SAFETY: the caller's.
        let (name, value) = unsafe { (self.name.get(), self.value.get()) };
        let (Some(name), Some(value)) = (name, value) else {
            return Err(KB_E_NULL);
        };
        match (str::from_utf8(name), str::from_utf8(value)) {
            (Ok(name), Ok(value)) if self.flags & !KB_SETTING_DEFAULT == 0 && self.reserved == 0 => {
                Ok(Setting { name, value, is_default: self.flags & KB_SETTING_DEFAULT != 0 })
            }
            _ => Err(KB_E_ARGUMENT),
        }
    }
}

/// The facts of one request. Set all of it to 0 first, then `struct_size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_facts {
    /// `sizeof(kb_facts)` as the caller compiled it
    pub struct_size: usize,
    /// Unix time, seconds; greater than 0
    pub now_s: i64,
    /// The value of the `Authorization` header, without white space around it; absent: there is none
    pub authorization: kb_str,
    /// The query of the request target, without the question mark; a token there is refused
    pub query: kb_str,
    /// The certificate of the connection, if `ssl` is NULL; absent with `KB_CERT_NONE`: there is none
    pub client_cert: kb_str,
    /// The connection's `SSL *` in the process's OpenSSL (`kb_ssl_supported()`), or NULL: the certificate and early data are read from
    /// it, and the thumbprint is remembered in it
    pub ssl: *mut std::ffi::c_void,
    /// `KB_CERT_NONE`, `KB_CERT_DER` or `KB_CERT_PEM`: what `client_cert` is
    pub client_cert_form: u32,
    /// How many `Authorization` headers came
    pub authorization_n: u32,
    /// `KB_FACT_EARLY_DATA`, `KB_WANT_CLAIMS`
    pub flags: u32,
    /// 0
    pub reserved: u32,
    /// What logins, sessions and proofs are decided from; NULL only where `kb_engine_needs()` has no `KB_NEEDS_HTTP`
    pub http: *const kb_http,
}

impl Versioned for kb_facts {
    const V1: usize = std::mem::offset_of!(kb_facts, http) + size_of::<*const kb_http>();
}

/// What is to be done with the request.
#[repr(C)]
pub struct kb_decision {
    /// `sizeof(kb_decision)` as the caller compiled it
    pub struct_size: usize,
    /// `KB_STEP_ALLOW`, `KB_STEP_RESPOND`, or what the check has to do first
    pub step: u32,
    /// Why: `KB_REASON_ALLOWED` or the reason of the refusal, for the log; 0 while there are steps to take. With `KB_STEP_ALLOW` another
    /// one than `KB_REASON_ALLOWED`: the request would be refused for it, and passes by `report_only`, with no claims and no headers
    pub reason: u32,
    /// The answer for the client with `KB_STEP_RESPOND`; its pointers are valid as long as the engine, and where there is a check, as long
    /// as the check. With a check it may have headers: `kb_check_response_header()`
    pub response: kb_response,
    /// A check that holds more, or NULL: the claims with `KB_WANT_CLAIMS`, headers to be set or removed if some are configured
    /// (`upstream_headers_names`, `hide_credentials`, `downstream_headers_names`), the next step, or the detail or headers of a refusal.
    /// Not NULL where a request passes and claims or headers were asked for, or by a proof, and with `KB_NEEDS_LOGIN` where any passes. Free
    /// it with `kb_check_free()`
    pub check: *mut kb_check,
    /// The first four octets of the token's SHA-256, for the log: 0 where the reason is `KB_REASON_ALLOWED`, or there is no token
    pub token_id: u32,
    /// 0
    pub reserved: u32,
}

/// How to connect to an authorization server. Set `struct_size` first; the rest is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kb_tls {
    /// `sizeof(kb_tls)` as the caller compiled it
    pub struct_size: usize,
    /// Name of the client certificate in the configuration, or absent: offer none
    pub name: kb_str,
    /// Its chain, or absent: the path of a PEM file, or PEM, which begins with `-----BEGIN`
    pub certificate: kb_str,
    /// Its private key, likewise
    pub private_key: kb_str,
    /// The CA certificates that vouch for the server, and no others, likewise; absent: those that the host trusts anyway
    pub trusted: kb_str,
    /// 1: verify the server's certificate and name; 0: the operator has turned that off
    pub verify: u32,
    /// 0
    pub reserved: u32,
}

impl Versioned for kb_tls {
    const V1: usize = std::mem::offset_of!(kb_tls, reserved) + size_of::<u32>();
}

impl kb_tls {
    fn of(profile: &TlsProfile) -> kb_tls {
        let text = |text: &Option<String>| kb_str::of_option(text.as_deref().map(str::as_bytes));
        kb_tls {
            struct_size: size_of::<kb_tls>(),
            name: text(&profile.name),
            certificate: text(&profile.certificate),
            private_key: kb_str::of_option(profile.private_key.as_ref().map(|key| key.as_bytes())),
            trusted: text(&profile.trusted),
            verify: u32::from(profile.verify),
            reserved: 0,
        }
    }
}

/// Size of the first version of [`kb_decision`].
const DECISION_V1: usize = std::mem::offset_of!(kb_decision, reserved) + size_of::<u32>();

/// Makes an engine.
///
/// # Arguments
/// - `config`, `config_len`: the configuration as JSON (docs/configuration.md)
/// - `engine`: receives the handle
/// - `errbuf`, `errbuf_cap`: receives the message of `KB_E_CONFIG`, cut to fit, not NUL-terminated; may be NULL
/// - `errbuf_len`: receives the whole length of the message; may be NULL
///
/// # Returns
/// `KB_OK`; free the handle with `kb_engine_free()`.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_CONFIG`.
///
/// # Safety
/// `config` has `config_len` readable bytes, `errbuf` has `errbuf_cap` writable ones, `engine` and `errbuf_len` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_new(
    config: *const u8,
    config_len: usize,
    engine: *mut *mut kb_engine,
    errbuf: *mut u8,
    errbuf_cap: usize,
    errbuf_len: *mut usize,
) -> i32 {
    let new = |config: &[u8]| Engine::new(config).map(kb_engine::of);
    // SAFETY: the caller's.
    unsafe { new_handle((config, config_len), engine, (errbuf, errbuf_cap, errbuf_len), new) }
}

/// Makes an engine from a configuration and options that the host has by its own means, such as nginx's directives.
///
/// # Arguments
/// - `config`, `config_len`, `engine`, `errbuf`, `errbuf_cap`, `errbuf_len`: as for `kb_engine_new()`
/// - `settings`, `count`: the options; `settings` may be NULL if `count` is 0
///
/// # Returns
/// `KB_OK`; free the handle with `kb_engine_free()`.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_CONFIG`; `KB_E_ARGUMENT`: an unknown flag, `reserved` is not 0, or text that is not UTF-8.
///
/// # Safety
/// As for `kb_engine_new()`; `settings` has `count` elements, whose pointers have the given lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_new_with(
    config: *const u8,
    config_len: usize,
    settings: *const kb_setting,
    count: usize,
    engine: *mut *mut kb_engine,
    errbuf: *mut u8,
    errbuf_cap: usize,
    errbuf_len: *mut usize,
) -> i32 {
    let own = guarded(Err(KB_E_PANIC), || {
        if count == 0 {
            return Ok(Vec::new());
        }
        if settings.is_null() {
            return Err(KB_E_NULL);
        }
        // SAFETY: the caller's.
        let settings = unsafe { std::slice::from_raw_parts(settings, count) };
        // SAFETY: the caller's.
        settings.iter().map(|setting| unsafe { setting.get() }).collect::<Result<Vec<_>, _>>()
    });
    match own {
        // SAFETY: the caller's.
        Ok(own) => unsafe {
            new_handle((config, config_len), engine, (errbuf, errbuf_cap, errbuf_len), |config| {
                Engine::with_settings(config, &own).map(kb_engine::of)
            })
        },
        Err(status) => status,
    }
}

/// Frees an engine. NULL does nothing. Checks of the engine stay usable; responses in decisions do not.
///
/// # Safety
/// `engine` is NULL, or came from `kb_engine_new()`, is not freed yet and not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_free(engine: *mut kb_engine) {
    // SAFETY: the caller's.
    unsafe { free_handle(engine) };
}

/// What the operator should know of an accepted configuration, one sentence each: keys that are skipped, and why; checks that are off.
///
/// # Arguments
/// - `index`: from 0, until `KB_E_RANGE`
/// - `warning`: receives the sentence
///
/// # Lifetimes
/// Valid until the engine is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_RANGE`.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `warning` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_warning(engine: *const kb_engine, index: usize, warning: *mut kb_str) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }) else {
            return KB_E_NULL;
        };
        match engine.warnings.get(index) {
            // SAFETY: the caller's.
            Some(text) => unsafe { write(warning, kb_str::of(text.as_bytes())) },
            None => KB_E_RANGE,
        }
    })
}

/// The headers that an allowed request may carry upstream. Remove each from every request before anything else, on every path:
/// what the client sent under these names must never reach the upstream. `Authorization` and `Cookie` are never among
/// them: it is `kb_check_header()` that replaces or removes these, after the decision.
///
/// # Arguments
/// - `index`: from 0, until `KB_E_RANGE`
/// - `name`: receives the header name
///
/// # Lifetimes
/// Valid until the engine is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_RANGE`.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `name` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_upstream_header(engine: *const kb_engine, index: usize, name: *mut kb_str) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }) else {
            return KB_E_NULL;
        };
        match engine.engine.upstream_header_names().nth(index) {
            // SAFETY: the caller's.
            Some(text) => unsafe { write(name, kb_str::of(text.as_bytes())) },
            None => KB_E_RANGE,
        }
    })
}

/// How to connect to authorization servers: `kb_fetch.tls` is one of these. Load what they name when the engine is made, and refuse to
/// start if that fails; a host that runs for long looks at the files again, since certificates are renewed.
///
/// # Arguments
/// - `index`: from 0, until `KB_E_RANGE`
/// - `tls`: set `struct_size`; the rest is filled
///
/// # Lifetimes
/// Valid until the engine is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: `struct_size` is too small; `KB_E_RANGE`.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `tls` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_tls(engine: *const kb_engine, index: usize, tls: *mut kb_tls) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }) else {
            return KB_E_NULL;
        };
        match engine.engine.tls_profiles().get(index) {
            // SAFETY: the caller's.
            Some(profile) => unsafe { write_versioned(tls, kb_tls::of(profile)) },
            None => KB_E_RANGE,
        }
    })
}

/// Whether steps can be `KB_STEP_STORE`: the configuration has a `store_secret`. A host without a store answers `KB_STORE_FAILED`;
/// with `KB_NEEDS_STORE` it does not start.
///
/// # Returns
/// 1 or 0; 0 for NULL and after an internal error.
///
/// # Safety
/// `engine` is NULL, or came from `kb_engine_new()` and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_shares(engine: *const kb_engine) -> u32 {
    // SAFETY: the caller's.
    guarded(0, || unsafe { engine.as_ref() }.map_or(0, |engine| u32::from(engine.engine.shares())))
}

/// What the engine needs of a host besides the facts that each request has.
///
/// # Returns
/// `KB_NEEDS_HTTP`, `KB_NEEDS_FORM`, `KB_NEEDS_STORE`, `KB_NEEDS_FETCH`, `KB_NEEDS_PROOF`, `KB_NEEDS_LOGIN` and `KB_NEEDS_FILTER`, as far as
/// they apply; 0 for NULL and after an internal error.
///
/// # Safety
/// `engine` is NULL, or came from `kb_engine_new()` and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_needs(engine: *const kb_engine) -> u32 {
    guarded(0, || {
        // SAFETY: the caller's.
        let Some(kb_engine { engine, .. }) = (unsafe { engine.as_ref() }) else {
            return 0;
        };
        [
            (engine.needs_http(), KB_NEEDS_HTTP),
            (engine.needs_form(), KB_NEEDS_FORM),
            (engine.needs_store(), KB_NEEDS_STORE),
            (engine.fetches(), KB_NEEDS_FETCH),
            (engine.needs_proof(), KB_NEEDS_PROOF),
            (engine.needs_check(), KB_NEEDS_LOGIN),
            (engine.gives_nonces(), KB_NEEDS_FILTER),
        ]
        .into_iter()
        .fold(0, |needs, (is_needed, flag)| if is_needed { needs | flag } else { needs })
    })
}

/// Whether the engine only reports (`report_only`): what it would refuse passes. A host that refuses by itself has to look at this by itself.
///
/// # Returns
/// 1 or 0; 0 for NULL and after an internal error.
///
/// # Safety
/// `engine` is NULL, or came from `kb_engine_new()` and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_report_only(engine: *const kb_engine) -> u32 {
    // SAFETY: the caller's.
    guarded(0, || unsafe { engine.as_ref() }.map_or(0, |engine| u32::from(engine.engine.report_only())))
}

/// The answer for a client that the host itself refuses, which is counted: one look and one set of messages for all refusals, as to a request
/// without a proof. With
/// `report_only` there is an answer too, and it counts as a report: whether to give it is the host's to decide (`kb_engine_report_only()`).
///
/// # Arguments
/// - `reason`: such as `KB_REASON_CERTIFICATE_REFUSED`, `KB_REASON_DUPLICATE_HEADER`, `KB_REASON_CONSUMER_NOT_FOUND`
/// - `response`: receives the answer
///
/// # Lifetimes
/// Valid until the engine is freed.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_RANGE`: the number is no reason of a refusal.
///
/// # Safety
/// `engine` came from `kb_engine_new()` and is not freed; `response` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_response(engine: *const kb_engine, reason: u32, response: *mut kb_response) -> i32 {
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }) else {
            return KB_E_NULL;
        };
        match Reason::ALL.iter().find(|r| **r as u32 == reason && **r != Reason::Allowed) {
            Some(reason) => {
                engine.engine.count_refusal(*reason);
                // SAFETY: the caller's.
                unsafe { write(response, kb_response::of(engine.engine.response(*reason))) }
            }
            None => KB_E_RANGE,
        }
    })
}

/// Decides about a request: the one call of the hot path. It allocates nothing where the token is remembered, no claims are wanted
/// and no headers are configured.
///
/// # Arguments
/// - `engine`: the engine
/// - `facts`: the facts of the request; nothing of it is kept
/// - `decision`: set `struct_size`; the rest is filled
///
/// # Returns
/// `KB_OK` if a decision was made. Only `decision->step == KB_STEP_ALLOW` lets the request through.
///
/// # Errors
/// `KB_E_NULL`; `KB_E_ARGUMENT`: a `struct_size` is too small, `now_s` is not set, `authorization` came without `authorization_n`, an unknown
/// form or flag, or a certificate beside `ssl`; `KB_E_NO_OPENSSL`.
/// `decision->step` is then `KB_STEP_INVALID` if `decision` could be written.
///
/// # Safety
/// The pointers in `facts` have the given lengths; `ssl` is NULL or a live connection that no other thread uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kb_engine_decide(
    engine: *const kb_engine,
    facts: *const kb_facts,
    decision: *mut kb_decision,
) -> i32 {
    // SAFETY: the caller's.
    if decision.is_null() || unsafe { (&raw const (*decision).struct_size).read() } < DECISION_V1 {
        return if decision.is_null() { KB_E_NULL } else { KB_E_ARGUMENT };
    }
    // SAFETY: the caller's, and large enough. Whatever happens below, an allow of an earlier request does not stay behind.
    let decision = unsafe { &mut *decision };
    decision.step = super::KB_STEP_INVALID;
    decision.reason = 0;
    decision.response = kb_response::NONE;
    decision.check = std::ptr::null_mut();
    decision.token_id = 0;
    decision.reserved = 0;
    guarded(KB_E_PANIC, || {
        // SAFETY: the caller's.
        let Some(engine) = (unsafe { engine.as_ref() }).filter(|_| !facts.is_null()) else {
            return KB_E_NULL;
        };
        // SAFETY: the caller's, and `facts` is not NULL.
        match unsafe { read_versioned(facts).and_then(|facts| decide(engine, &facts, decision)) } {
            Ok(()) => KB_OK,
            Err(status) => status,
        }
    })
}

/// # Safety
/// As for [`kb_engine_decide`].
unsafe fn decide(engine: &kb_engine, facts: &kb_facts, decision: &mut kb_decision) -> Result<(), i32> {
    // A host that forgot the time would find expired tokens good, and one that forgot to count would not see a second header.
    let forgotten = facts.now_s <= 0 || (facts.authorization_n == 0 && !facts.authorization.ptr.is_null());
    let unknown = facts.flags & !(KB_FACT_EARLY_DATA | KB_WANT_CLAIMS) != 0 || facts.reserved != 0;
    if forgotten || unknown {
        return Err(KB_E_ARGUMENT);
    }
    // What is too long to be real must not pass for absent.
    if [facts.authorization, facts.query, facts.client_cert].iter().any(|s| isize::try_from(s.len).is_err()) {
        return Err(KB_E_ARGUMENT);
    }
    // SAFETY: the caller's.
    let authorization = unsafe { facts.authorization.get() };
    let mut request = Request {
        now: facts.now_s,
        authorization,
        authorization_count: facts.authorization_n,
        // SAFETY: the caller's.
        query: unsafe { facts.query.get() }.unwrap_or_default(),
        certificate: ClientCertificate::Absent,
        early_data: facts.flags & KB_FACT_EARLY_DATA != 0,
        http: None,
    };
    let (http, borrowed);
    // Where only proofs are decided from it, the many requests with a bearer token do not pay for it.
    if engine.engine.needs_check() || (engine.engine.needs_proof() && request.scheme() == Scheme::Dpop) {
        if facts.http.is_null() {
            return Err(KB_E_ARGUMENT);
        }
        // SAFETY: the caller's, and not NULL.
        http = unsafe { http::Facts::read(&read_versioned(facts.http)?)? };
        borrowed = http.get();
        request.http = Some(&borrowed);
    }
    // SAFETY: the caller's.
    let given = unsafe { certificate(facts.client_cert.ptr, facts.client_cert.len, facts.client_cert_form)? };
    let identity;
    if facts.ssl.is_null() {
        request.certificate = given;
    } else {
        if !matches!(given, ClientCertificate::Absent) {
            return Err(KB_E_ARGUMENT);
        }
        let openssl = openssl::functions().ok_or(KB_E_NO_OPENSSL)?;
        // SAFETY: the caller's.
        unsafe {
            request.early_data |= openssl.early(facts.ssl);
            identity = if engine.engine.needs_certificate() { openssl.identity(facts.ssl) } else { Ok(None) };
        }
        request.certificate = match &identity {
            Ok(Some(identity)) => ClientCertificate::Known(identity),
            Ok(None) => ClientCertificate::Absent,
            // No certificate is malformed in the same way, and so is refused where its turn comes.
            Err(_) => ClientCertificate::Der(&[]),
        };
    }
    let whole = facts.flags & KB_WANT_CLAIMS != 0 || engine.engine.changes_headers() || engine.engine.needs_check();
    let at_once = if whole { Err(None) } else { engine.engine.at_once(&request) };
    match at_once {
        Ok(()) => {
            decision.step = KB_STEP_ALLOW;
            decision.reason = Reason::Allowed as u32;
        }
        Err(Some(reason)) => decision.refuse(&engine.engine, &request, reason),
        Err(None) => {
            let check = engine.engine.begin(&request);
            let refusal = check.reason().filter(|reason| *reason != Reason::Allowed);
            match refusal {
                Some(reason) => decision.refuse(&engine.engine, &request, reason),
                None if check.reason().is_none() => decision.token_id = request.token_id(),
                None => {}
            }
            // A refusal has a check for its detail, or for an answer of its own. What passes has the one that was asked for, even if nothing
            // is in it.
            if refusal.is_none() || check.detail().is_some() || check.answers() || engine.engine.report_only() {
                let check = Box::new(kb_check::new(check));
                decision.step = check.step();
                decision.reason = check.reason();
                if let Some(response) = check.response() {
                    decision.response = response;
                }
                decision.check = Box::into_raw(check);
            }
        }
    }
    Ok(())
}

impl kb_decision {
    /// Of a refusal, or of what only is reported as one.
    fn refuse(&mut self, engine: &Engine, request: &Request<'_>, reason: Reason) {
        if engine.report_only() {
            self.step = KB_STEP_ALLOW;
        } else {
            self.step = KB_STEP_RESPOND;
            self.response = kb_response::of(engine.response_to(request.scheme(), reason));
        }
        self.reason = reason as u32;
        self.token_id = request.token_id();
    }
}
