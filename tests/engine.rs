//! The engine through its C ABI as a host calls it: the cache keeps facts and not verdicts, the hot path allocates nothing.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use common::{CLIENT_A, CLIENT_B, ISSUER, NOW, config, mint, without};
use keybound::cert::ClientCertificate;
use keybound::ffi::*;
use keybound::{Decision, Engine, Reason, Request, Step};
use serde_json::{Value, json};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; only a counter of this thread is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Host(*mut kb_engine);

impl Host {
    fn new(change: impl FnOnce(&mut Value)) -> Host {
        let config = config(change);
        let mut engine = ptr::null_mut();
        // SAFETY: the pointers are those of live values.
        let status =
            unsafe { kb_engine_new(config.as_ptr(), config.len(), &mut engine, ptr::null_mut(), 0, ptr::null_mut()) };
        assert_eq!(status, KB_OK);
        Host(engine)
    }

    fn decide_as(&self, authorization: &str, form: u32, certificate: &[u8], now: i64, flags: u32) -> kb_decision {
        let str_of = |bytes: &[u8]| kb_str { ptr: bytes.as_ptr(), len: bytes.len() };
        let absent = kb_str { ptr: ptr::null(), len: 0 };
        let facts = kb_facts {
            struct_size: size_of::<kb_facts>(),
            now_s: now,
            authorization: str_of(authorization.as_bytes()),
            query: absent,
            client_cert: if form == KB_CERT_NONE { absent } else { str_of(certificate) },
            ssl: ptr::null_mut(),
            client_cert_form: form,
            authorization_n: 1,
            flags,
            reserved: 0,
            http: ptr::null(),
        };
        // SAFETY: all bits zero is a valid decision.
        let mut decision: kb_decision = unsafe { std::mem::zeroed() };
        decision.struct_size = size_of::<kb_decision>();
        // SAFETY: the pointers are those of live values.
        assert_eq!(unsafe { kb_engine_decide(self.0, &facts, &mut decision) }, KB_OK);
        decision
    }

    fn decide(&self, token: &str, certificate: &[u8], now: i64) -> u32 {
        self.decide_as(&format!("Bearer {token}"), KB_CERT_DER, certificate, now, 0).reason
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: made by kb_engine_new, freed once.
        unsafe { kb_engine_free(self.0) };
    }
}

const ALLOWED: u32 = KB_REASON_ALLOWED;

type Get = unsafe extern "C" fn(*const kb_check, usize, *mut kb_str, *mut kb_str) -> i32;

/// What a function of (check, index, name, value) lists.
fn list(get: Get, check: *const kb_check) -> Vec<(String, Option<String>)> {
    let text = |s: kb_str| {
        // SAFETY: the check is live.
        (!s.ptr.is_null())
            .then(|| String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(s.ptr, s.len) }).into_owned())
    };
    let mut found = Vec::new();
    // SAFETY: the check is live or NULL, and the outputs are writable.
    unsafe {
        let (mut name, mut value) = std::mem::zeroed();
        while get(check, found.len(), &mut name, &mut value) == KB_OK {
            found.push((text(name).unwrap_or_default(), text(value)));
        }
    }
    found
}

/// All counters with a value, as on the page.
fn counted(host: &Host) -> Vec<String> {
    let (mut values, mut needed) = ([0u64; 4096], 0);
    // SAFETY: the engine is live, and the outputs are writable.
    unsafe {
        assert_eq!(kb_engine_counters(host.0, values.as_mut_ptr(), values.len(), &mut needed), KB_OK);
        let sample = |i: usize| {
            let mut counter: kb_counter = std::mem::zeroed();
            counter.struct_size = size_of::<kb_counter>();
            assert_eq!(kb_engine_counter(host.0, i, &mut counter), KB_OK);
            let text = std::slice::from_raw_parts(counter.sample.ptr, counter.sample.len);
            format!("{} {}", String::from_utf8_lossy(text), values[i])
        };
        (0..needed).filter(|i| values[*i] > 0).map(sample).collect()
    }
}

#[test]
fn the_hot_path_allocates_nothing() {
    let host = Host::new(|_| {});
    let authorization = format!("Bearer {}", mint("ES256", |_| {}));
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, CLIENT_A)
    );
    for (form, certificate) in [(KB_CERT_DER, CLIENT_A), (KB_CERT_PEM, pem.as_bytes())] {
        let count = || {
            let before = ALLOCATIONS.get();
            let decision = host.decide_as(&authorization, form, certificate, NOW, 0);
            assert_eq!(decision.reason, ALLOWED);
            ALLOCATIONS.get() - before
        };
        // The counter counts: something is allocated before the token and the certificate are remembered.
        assert!(count() > 0, "form {form}");
        assert_eq!(count(), 0, "form {form}");
    }
}

#[test]
fn a_refusal_of_a_remembered_token_allocates_nothing() {
    let host = Host::new(|_| {});
    let authorization = format!("Bearer {}", mint("ES256", |_| {}));
    host.decide_as(&authorization, KB_CERT_DER, CLIENT_A, NOW, 0);
    host.decide_as(&authorization, KB_CERT_DER, CLIENT_B, NOW, 0);
    let before = ALLOCATIONS.get();
    let decision = host.decide_as(&authorization, KB_CERT_DER, CLIENT_B, NOW, 0);
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(decision.reason, Reason::CertificateMismatch as u32);
    assert_eq!(decision.response.status, 401);
}

#[test]
fn the_binding_is_checked_on_every_hit() {
    let host = Host::new(|_| {});
    let token = mint("ES256", |_| {});
    assert_eq!(host.decide(&token, CLIENT_A, NOW), ALLOWED);
    assert_eq!(host.decide(&token, CLIENT_B, NOW), Reason::CertificateMismatch as u32);
    let without = host.decide_as(&format!("Bearer {token}"), KB_CERT_NONE, b"", NOW, 0);
    assert_eq!(without.reason, Reason::CertificateMissing as u32);
    assert_eq!(host.decide(&token, CLIENT_A, NOW), ALLOWED);
}

#[test]
fn the_times_are_checked_on_every_hit() {
    let host = Host::new(|_| {});
    let token = mint("ES256", |c| c["nbf"] = (NOW - 100).into());
    assert_eq!(host.decide(&token, CLIENT_A, NOW), ALLOWED);
    assert_eq!(host.decide(&token, CLIENT_A, NOW + 600), Reason::TokenExpired as u32);
    assert_eq!(host.decide(&token, CLIENT_A, NOW - 111), Reason::TokenNotYetValid as u32);
    let issued = mint("ES256", |_| {});
    assert_eq!(host.decide(&issued, CLIENT_A, NOW), ALLOWED);
    assert_eq!(host.decide(&issued, CLIENT_A, NOW - 71), Reason::TokenIssuedInFuture as u32);
    assert_eq!(host.decide(&token, CLIENT_A, NOW + 599), ALLOWED);
}

#[test]
fn a_refused_token_is_not_remembered() {
    let host = Host::new(|c| c["scopes_required"] = json!(["admin"]));
    let token = mint("ES256", |_| {});
    let refuse = || {
        let before = ALLOCATIONS.get();
        assert_eq!(host.decide(&token, CLIENT_A, NOW), Reason::InsufficientScope as u32);
        ALLOCATIONS.get() - before
    };
    refuse();
    // It is read and verified anew each time.
    assert!(refuse() > 1);
}

#[test]
fn without_a_cache_every_request_is_verified() {
    let host = Host::new(|c| c["token_cache_entries"] = 0.into());
    let token = mint("ES256", |_| {});
    for _ in 0..3 {
        assert_eq!(host.decide(&token, CLIENT_A, NOW), ALLOWED);
        assert_eq!(host.decide(&token, CLIENT_B, NOW), Reason::CertificateMismatch as u32);
    }
}

#[test]
fn claims_are_the_same_cold_and_hot() {
    let host = Host::new(|_| {});
    let token = mint("ES256", |_| {});
    let expected = token.split('.').nth(1).expect("payload");
    for _ in 0..2 {
        let decision = host.decide_as(&format!("Bearer {token}"), KB_CERT_DER, CLIENT_A, NOW, KB_WANT_CLAIMS);
        assert_eq!(decision.step, KB_STEP_ALLOW);
        let mut json = kb_str { ptr: ptr::null(), len: 0 };
        // SAFETY: the check is live, and its claims are read before it is freed.
        unsafe {
            assert_eq!(kb_check_claims(decision.check, &mut json), KB_OK);
            assert_eq!(common::b64(std::slice::from_raw_parts(json.ptr, json.len)), expected);
            kb_check_free(decision.check);
        }
    }
}

#[test]
fn early_data_proves_nothing() {
    let authorization = format!("Bearer {}", mint("ES256", |_| {}));
    let decide = |mode: &str, flags| {
        let host = Host::new(|c| c["proof_of_possession_mtls"] = mode.into());
        let decision = host.decide_as(&authorization, KB_CERT_DER, CLIENT_A, NOW, flags);
        (decision.reason, decision.response.status)
    };
    assert_eq!(decide("strict", 0), (ALLOWED, 0));
    assert_eq!(decide("strict", KB_FACT_EARLY_DATA), (Reason::EarlyData as u32, 425));
    assert_eq!(decide("off", KB_FACT_EARLY_DATA), (ALLOWED, 0));
}

#[test]
fn an_engine_is_shared_by_threads() {
    let host = Host::new(|c| c["token_cache_entries"] = 64.into());
    let tokens: Vec<String> = (0..50).map(|i| mint("EdDSA", |c| c["jti"] = i.to_string().into())).collect();
    struct Shared<'a>(&'a Host);
    // SAFETY: the header promises that an engine may be used by several threads at once; this is the test of it.
    unsafe impl Sync for Shared<'_> {}
    let shared = Shared(&host);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (shared, tokens) = (&shared, &tokens);
            scope.spawn(move || {
                for i in 0..200 {
                    let token = &tokens[(i * 7 + thread) % tokens.len()];
                    assert_eq!(shared.0.decide(token, CLIENT_A, NOW), ALLOWED);
                    assert_eq!(shared.0.decide(token, CLIENT_B, NOW), Reason::CertificateMismatch as u32);
                }
            });
        }
    });
}

#[test]
fn header_and_claims_of_one_request_never_show_in_another() {
    let host = Host::new(|c| {
        c["upstream_headers_claims"] = json!(["sub", "tenant"]);
        c["upstream_headers_names"] = json!(["X-Subject", "X-Tenant"]);
    });
    let alice = mint("ES256", |c| c["tenant"] = "a".into());
    let bob = mint("ES256", |c| {
        c["sub"] = "bob".into();
        without(c, "tenant");
    });
    let headers = |token: &str| {
        let decision = host.decide_as(&format!("Bearer {token}"), KB_CERT_DER, CLIENT_A, NOW, 0);
        let found = list(kb_check_header, decision.check);
        // SAFETY: freed once.
        unsafe { kb_check_free(decision.check) };
        found
    };
    for _ in 0..3 {
        assert_eq!(
            headers(&alice),
            [("X-Subject".into(), Some("alice".into())), ("X-Tenant".into(), Some("a".into()))]
        );
        assert_eq!(headers(&bob), [("X-Subject".into(), Some("bob".to_owned())), ("X-Tenant".into(), None)]);
    }
}

#[test]
fn the_client_gets_the_claims_that_are_there_and_the_upstream_none_of_them() {
    let host = Host::new(|c| {
        c["downstream_headers_claims"] = json!(["sub", "tenant", ["realm", "name"]]);
        c["downstream_headers_names"] = json!(["X-Subject", "X-Tenant", "X-Realm"]);
    });
    let some = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let alice = mint("ES256", |c| c["realm"] = json!({"name": "r"}));
    let bob = mint("ES256", |c| {
        c["sub"] = "bob".into();
        c["tenant"] = "a\r\nX-Admin: 1".into();
    });
    for _ in 0..2 {
        for (token, expected) in
            [(&alice, vec![some("X-Subject", "alice"), some("X-Realm", "r")]), (&bob, vec![some("X-Subject", "bob")])]
        {
            let decision = host.decide_as(&format!("Bearer {token}"), KB_CERT_DER, CLIENT_A, NOW, 0);
            assert_eq!((decision.step, decision.reason), (KB_STEP_ALLOW, ALLOWED));
            assert_eq!(list(kb_check_response_header, decision.check), expected);
            assert_eq!(list(kb_check_header, decision.check), []);
            // SAFETY: freed once.
            unsafe { kb_check_free(decision.check) };
        }
        let refused = host.decide_as(&format!("Bearer {alice}"), KB_CERT_DER, CLIENT_B, NOW, 0);
        assert_eq!(refused.step, KB_STEP_RESPOND);
        assert!(refused.check.is_null());
    }
}

#[test]
fn hidden_credentials_are_removed_after_the_decision_and_never_before() {
    let removed = |change: &dyn Fn(&mut Value)| {
        let host = Host::new(change);
        let authorization = format!("Bearer {}", mint("ES256", |_| {}));
        let decision = host.decide_as(&authorization, KB_CERT_DER, CLIENT_A, NOW, 0);
        assert_eq!((decision.step, decision.reason), (KB_STEP_ALLOW, ALLOWED));
        let found = list(kb_check_header, decision.check);
        let mut name = kb_str { ptr: ptr::null(), len: 0 };
        // SAFETY: freed once; the engine is live.
        unsafe {
            kb_check_free(decision.check);
            assert_eq!(kb_engine_upstream_header(host.0, 0, &mut name), KB_E_RANGE);
        }
        found
    };
    assert_eq!(removed(&|c| c["hide_credentials"] = true.into()), [("authorization".to_owned(), None)]);
    assert_eq!(removed(&|_| {}), []);
}

#[test]
fn what_is_only_reported_passes_with_its_reason_and_nothing_else() {
    let report = |change: &dyn Fn(&mut Value)| {
        Host::new(|c| {
            c["report_only"] = true.into();
            change(c);
        })
    };
    let plain = report(&|_| {});
    let with_headers = report(&|c| {
        c["upstream_headers_claims"] = json!(["sub"]);
        c["upstream_headers_names"] = json!(["X-Subject"]);
        c["downstream_headers_claims"] = json!(["sub"]);
        c["downstream_headers_names"] = json!(["X-Subject"]);
        c["hide_credentials"] = true.into();
    });
    let authorization = format!("Bearer {}", mint("ES256", |_| {}));
    let refusing = Host::new(|_| {});
    let expected = refusing.decide_as(&authorization, KB_CERT_DER, CLIENT_B, NOW, 0);
    assert_eq!(expected.step, KB_STEP_RESPOND);
    // The second time the token is remembered.
    for _ in 0..2 {
        for (host, flags) in
            [(&plain, 0), (&plain, KB_WANT_CLAIMS), (&with_headers, 0), (&with_headers, KB_WANT_CLAIMS)]
        {
            for (certificate, more, reason) in
                [(CLIENT_B, 0, Reason::CertificateMismatch), (CLIENT_A, KB_FACT_EARLY_DATA, Reason::EarlyData)]
            {
                let decision = host.decide_as(&authorization, KB_CERT_DER, certificate, NOW, flags | more);
                assert_eq!((decision.step, decision.reason), (KB_STEP_ALLOW, reason as u32));
                assert_eq!((decision.response.status, decision.token_id), (0, expected.token_id));
                assert_eq!(decision.check.is_null(), ptr::eq(host, &plain) && flags == 0);
                let mut json = kb_str { ptr: ptr::null(), len: 0 };
                if !decision.check.is_null() {
                    // SAFETY: the check is live until it is freed here.
                    unsafe {
                        assert_eq!(kb_check_step(decision.check), KB_STEP_ALLOW);
                        assert_eq!(kb_check_reason(decision.check), reason as u32);
                        assert_eq!(kb_check_claims(decision.check, &mut json), KB_E_RANGE);
                        assert_eq!(list(kb_check_header, decision.check), []);
                        assert_eq!(list(kb_check_response_header, decision.check), []);
                        kb_check_free(decision.check);
                    }
                }
            }
            let allowed = host.decide_as(&authorization, KB_CERT_DER, CLIENT_A, NOW, flags);
            assert_eq!((allowed.step, allowed.reason, allowed.token_id), (KB_STEP_ALLOW, ALLOWED, 0));
            // SAFETY: freed once.
            unsafe { kb_check_free(allowed.check) };
        }
    }
    // SAFETY: the engines are live.
    unsafe {
        assert_eq!((kb_engine_report_only(plain.0), kb_engine_report_only(refusing.0)), (1, 0));
    }
}

#[test]
fn an_engine_that_only_reports_warns_and_counts_reports_and_no_denials() {
    let host = Host::new(|c| c["report_only"] = true.into());
    let twin = Host::new(|_| {});
    let token = mint("ES256", |_| {});
    for host in [&host, &twin] {
        host.decide(&token, CLIENT_A, NOW);
        host.decide(&token, CLIENT_B, NOW);
        // SAFETY: the engine is live, and the response writable.
        unsafe {
            let mut response: kb_response = std::mem::zeroed();
            assert_eq!(kb_engine_response(host.0, KB_REASON_CONSUMER_NOT_FOUND, &mut response), KB_OK);
            assert_eq!((response.status, response.www_authenticate.ptr), (403, ptr::null()));
        }
    }
    let lines = |decision: &str| {
        [(decision, "certificate_mismatch", "hit", ISSUER), ("allow", "allowed", "miss", ISSUER), (decision, "consumer_not_found", "none", "")]
            .map(|(decision, reason, cache, issuer)| {
                format!("keybound_requests_total{{issuer=\"{issuer}\",decision=\"{decision}\",reason=\"{reason}\",cache=\"{cache}\"}} 1")
            })
    };
    assert_eq!(counted(&host), lines("report"));
    assert_eq!(counted(&twin), lines("deny"));
    let warning = |host: &Host| {
        let mut text = kb_str { ptr: ptr::null(), len: 0 };
        // SAFETY: the engine is live, and lives longer than the text.
        unsafe {
            (kb_engine_warning(host.0, 0, &mut text) == KB_OK)
                .then(|| String::from_utf8_lossy(std::slice::from_raw_parts(text.ptr, text.len)).into_owned())
        }
    };
    assert!(warning(&host).is_some_and(|text| text.starts_with("report_only is true: nothing is refused")));
    assert_eq!(warning(&twin), None);
}

#[test]
fn a_report_of_a_remembered_token_allocates_nothing() {
    let host = Host::new(|c| c["report_only"] = true.into());
    let authorization = format!("Bearer {}", mint("ES256", |_| {}));
    host.decide_as(&authorization, KB_CERT_DER, CLIENT_A, NOW, 0);
    host.decide_as(&authorization, KB_CERT_DER, CLIENT_B, NOW, 0);
    let before = ALLOCATIONS.get();
    let decision = host.decide_as(&authorization, KB_CERT_DER, CLIENT_B, NOW, 0);
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!((decision.step, decision.reason), (KB_STEP_ALLOW, Reason::CertificateMismatch as u32));
}

#[test]
fn in_rust_a_report_is_no_allow() {
    let engine = |report_only: bool| {
        Arc::new(Engine::new(&config(|c| c["report_only"] = report_only.into())).expect("accepted"))
    };
    let authorization = format!("Bearer {}", mint("ES256", |_| {}));
    let request = |certificate| Request {
        now: NOW,
        authorization: Some(authorization.as_bytes()),
        authorization_count: 1,
        query: b"",
        certificate: ClientCertificate::Der(certificate),
        early_data: false,
        http: None,
    };
    let (reporting, refusing) = (engine(true), engine(false));
    let reason = Reason::CertificateMismatch;
    assert_eq!(reporting.decide(&request(CLIENT_A)), Decision::Allow);
    assert_eq!(reporting.decide(&request(CLIENT_B)), Decision::Report(reason));
    assert_eq!(refusing.decide(&request(CLIENT_B)), Decision::Refuse(reason));
    assert!(matches!(reporting.begin(&request(CLIENT_A)).step(), Step::Allow(_)));
    assert!(
        matches!(reporting.begin(&request(CLIENT_B)).step(), Step::Report(r) if r.reason == reason && r.status == 401)
    );
    assert!(matches!(refusing.begin(&request(CLIENT_B)).step(), Step::Respond(r) if r.reason == reason));
}

#[test]
fn the_numbers_in_the_header_are_those_of_the_reasons() {
    for (number, reason) in [
        (KB_REASON_ALLOWED, Reason::Allowed),
        (KB_REASON_DUPLICATE_HEADER, Reason::DuplicateHeader),
        (KB_REASON_CERTIFICATE_REFUSED, Reason::CertificateRefused),
        (KB_REASON_CONSUMER_NOT_FOUND, Reason::ConsumerNotFound),
    ] {
        assert_eq!(number, reason as u32);
    }
}
