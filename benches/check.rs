//! `make bench`: the raw signature check, the cold check, the hot check, requests with a DPoP proof and the thumbprint, side by side in one run.
//!
//! Criterion gives the times. The ratios at the end come from interleaved rounds, since a machine's speed drifts by more than what is to
//! be measured. Both use the same engine through the C ABI as a host does.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::clients::{Key, ORIGIN};
use common::{CLIENT_A, NOW, mint, named_jwk};
use criterion::{BenchmarkId, Criterion};
use keybound::cert::{ClientCertificate, Thumbprint};
use keybound::crypto::{self, Algorithm, BACKEND, Curve, PublicKey};
use keybound::engine::Http;
use keybound::ffi::*;
use keybound::steps::StoreAnswer;
use keybound::{Engine, Reason, Request};
use serde_json::{Value, json};

const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
/// More than the cache of the cold engine holds, so that each is new when it comes again.
const TOKENS: usize = 64;

struct Host(*mut kb_engine);

impl Host {
    fn new(keys: Vec<Value>, cache_entries: usize) -> Host {
        let config = common::config(|c| {
            c["jwks"] = json!({ "keys": keys });
            c["token_cache_entries"] = cache_entries.into();
        });
        let mut engine = ptr::null_mut();
        // SAFETY: the pointers are those of live values.
        let status =
            unsafe { kb_engine_new(config.as_ptr(), config.len(), &mut engine, ptr::null_mut(), 0, ptr::null_mut()) };
        assert_eq!(status, KB_OK);
        Host(engine)
    }

    fn allow(&self, authorization: &str) {
        let str_of = |bytes: &[u8]| kb_str { ptr: bytes.as_ptr(), len: bytes.len() };
        let facts = kb_facts {
            struct_size: size_of::<kb_facts>(),
            now_s: NOW,
            authorization: str_of(authorization.as_bytes()),
            query: kb_str { ptr: ptr::null(), len: 0 },
            client_cert: str_of(CLIENT_A),
            ssl: ptr::null_mut(),
            client_cert_form: KB_CERT_DER,
            authorization_n: 1,
            flags: 0,
            reserved: 0,
            http: ptr::null(),
        };
        // SAFETY: all bits zero is a valid decision, and the pointers are those of live values.
        unsafe {
            let mut decision: kb_decision = std::mem::zeroed();
            decision.struct_size = size_of::<kb_decision>();
            let status = kb_engine_decide(self.0, black_box(&facts), &mut decision);
            assert!(status == KB_OK && decision.step == KB_STEP_ALLOW, "{status} {}", decision.reason);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: made by kb_engine_new, freed once.
        unsafe { kb_engine_free(self.0) };
    }
}

/// A gateway that takes proofs, and whose store answers at once.
struct Prover(Arc<Engine>);

impl Prover {
    fn new(cache_entries: usize, change: impl FnOnce(&mut Value)) -> Prover {
        let config = common::config(|c| {
            c["jwks"] = json!({ "keys": keys("ES256", 1) });
            c["token_cache_entries"] = cache_entries.into();
            c["proof_of_possession_dpop"] = "strict".into();
            c["public_origin"] = ORIGIN.into();
            c["store_secret"] = "store secret of 32 characters...".into();
            change(c);
        });
        Prover(Arc::new(Engine::new(&config).unwrap_or_else(|e| panic!("{e}"))))
    }

    fn decide(&self, authorization: &str, proof: &str) -> Reason {
        let http = Http {
            method: b"GET",
            host: b"api.test",
            target: b"/data?x=1",
            scheme: b"https",
            peer: b"192.0.2.1",
            dpop: proof.as_bytes(),
            dpop_count: 1,
            ..Http::default()
        };
        let mut check = self.0.begin(black_box(&Request {
            now: NOW,
            authorization: Some(authorization.as_bytes()),
            authorization_count: 1,
            query: b"x=1",
            certificate: ClientCertificate::Absent,
            early_data: false,
            http: Some(&http),
        }));
        // Refused, it asks for nothing.
        let _ = check.stored(NOW, StoreAnswer::Done);
        check.reason().expect("decided")
    }

    fn allow(&self, authorization: &str, proof: &str) {
        assert_eq!(self.decide(authorization, proof), Reason::Allowed);
    }
}

/// Tokens that are bound to a key, a proof for each, and both as what is verified of them alone.
struct Proofs {
    tokens: Vec<String>,
    authorizations: Vec<String>,
    proofs: Vec<String>,
    of_tokens: Raw,
    of_proofs: Raw,
}

impl Proofs {
    fn new(count: usize) -> Proofs {
        let key = Key::new("ES256");
        let token = |i: usize| {
            key.token_with(|claims| {
                claims["jti"] = format!("{i:08}").into();
                claims["groups"] = json!(vec!["g".repeat(20); 10]);
            })
        };
        let tokens: Vec<String> = (0..count).map(token).collect();
        let proofs: Vec<String> = tokens.iter().map(|token| key.proof(token)).collect();
        Proofs {
            authorizations: tokens.iter().map(|token| format!("DPoP {token}")).collect(),
            of_tokens: Raw::new("ES256", &tokens),
            of_proofs: Raw::with_key("ES256", &key.jwk, &proofs),
            proofs,
            tokens,
        }
    }

    /// What cannot be left out of a request with a new token: two signatures, and the hash for `ath`.
    fn raw(&self, i: usize) {
        self.of_tokens.verify(i);
        self.raw_of_known(i);
    }

    /// Likewise where the token is remembered.
    fn raw_of_known(&self, i: usize) {
        self.of_proofs.verify(i);
        black_box(crypto::sha256(self.tokens[i % self.tokens.len()].as_bytes()));
    }

    fn ask(&self, prover: &Prover, i: usize) {
        prover.allow(&self.authorizations[i % self.proofs.len()], &self.proofs[i % self.proofs.len()]);
    }
}

/// Two gateways that refuse the same proof behind the nonce, which one of them checks: what lies between them is the nonce alone.
struct Nonce {
    with: Prover,
    without: Prover,
    authorization: String,
    proof: String,
}

impl Nonce {
    fn new() -> Nonce {
        let with = Prover::new(4096, |c| {
            c["dpop_use_nonce"] = true.into();
            c["dpop_nonce_secret"] = "nonce secret of 32 characters...".into();
        });
        let key = Key::new("ES256");
        let token = key.token();
        let authorization = format!("DPoP {token}");
        let nonce = {
            let http = Http { method: b"GET", target: b"/data", scheme: b"https", ..Http::default() };
            let proof = key.proof(&token);
            let check = with.0.begin(&Request {
                now: NOW,
                authorization: Some(authorization.as_bytes()),
                authorization_count: 1,
                query: b"",
                certificate: ClientCertificate::Absent,
                early_data: false,
                http: Some(&Http { dpop: proof.as_bytes(), dpop_count: 1, ..http }),
            });
            let keybound::Step::Respond(response) = check.step() else { panic!("a nonce") };
            response.headers[0].1.clone()
        };
        let proof = key.proof_with("another token", |_, c| c["nonce"] = nonce.into());
        Nonce { with, without: Prover::new(4096, |_| {}), authorization, proof }
    }

    fn refuse(&self, prover: &Prover) {
        assert_eq!(prover.decide(&self.authorization, &self.proof), Reason::ProofTokenMismatch);
    }
}

/// The signature alone, with the same crypto and a key prepared at load.
struct Raw {
    algorithm: Algorithm,
    key: PublicKey,
    signed: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Raw {
    fn new(alg: &str, tokens: &[String]) -> Raw {
        Raw::with_key(alg, &named_jwk(alg), tokens)
    }

    fn with_key(alg: &str, jwk: &Value, tokens: &[String]) -> Raw {
        use base64::Engine as _;
        let decode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let member = |name: &str| decode(jwk[name].as_str().expect("string"));
        let key = match alg {
            "ES256" => PublicKey::ec(Curve::P256, &member("x"), &member("y")),
            "ES384" => PublicKey::ec(Curve::P384, &member("x"), &member("y")),
            "EdDSA" => PublicKey::ed25519(&member("x")),
            _ => PublicKey::rsa(&member("n"), &member("e")),
        };
        let signed = tokens.iter().map(|token| {
            let (signed, signature) = token.rsplit_once('.').expect("parts");
            (signed.as_bytes().to_vec(), decode(signature))
        });
        Raw { algorithm: Algorithm::from_name(alg).expect("known"), key: key.expect("valid"), signed: signed.collect() }
    }

    fn verify(&self, i: usize) {
        let (message, signature) = &self.signed[i % self.signed.len()];
        assert!(self.key.verify(self.algorithm, black_box(message), signature));
    }
}

/// Distinct tokens of about `size` bytes.
fn tokens(alg: &str, size: usize, count: usize) -> Vec<String> {
    let token = |i: usize, padding: usize| {
        mint(alg, |claims| {
            claims["jti"] = format!("{i:08}").into();
            claims["groups"] = json!(vec!["g".repeat(20); padding / 23]);
        })
    };
    let base = token(0, 0).len();
    // base64url makes 4 of 3.
    let padding = size.saturating_sub(base) * 3 / 4;
    (0..count).map(|i| token(i, padding)).collect()
}

fn authorizations(tokens: &[String]) -> Vec<String> {
    tokens.iter().map(|token| format!("Bearer {token}")).collect()
}

fn keys(alg: &str, count: usize) -> Vec<Value> {
    let others = (1..count).map(|i| {
        let mut key = named_jwk("ES256");
        key["kid"] = format!("other-{i}").into();
        key
    });
    others.chain([named_jwk(alg)]).collect()
}

fn benches(c: &mut Criterion) {
    for alg in ALGORITHMS {
        let tokens = tokens(alg, 800, TOKENS);
        let raw = Raw::new(alg, &tokens);
        let headers = authorizations(&tokens);
        let cold = Host::new(keys(alg, 1), 8);
        let hot = Host::new(keys(alg, 1), 4096);
        let mut group = c.benchmark_group(alg);
        let mut i = 0;
        group.bench_function("raw signature", |b| {
            b.iter(|| {
                i += 1;
                raw.verify(i)
            })
        });
        group.bench_function("cold check", |b| {
            b.iter(|| {
                i += 1;
                cold.allow(&headers[i % TOKENS])
            })
        });
        group.bench_function("hot check", |b| b.iter(|| hot.allow(&headers[0])));
        group.finish();
    }
    let (proofs, cold, known) = (Proofs::new(TOKENS), Prover::new(8, |_| {}), Prover::new(4096, |_| {}));
    let mut group = c.benchmark_group("DPoP, ES256");
    let mut i = 0;
    let mut next = || {
        i += 1;
        i
    };
    group.bench_function("raw, two signatures and a hash", |b| b.iter(|| proofs.raw(next())));
    group.bench_function("cold request", |b| b.iter(|| proofs.ask(&cold, next())));
    group.bench_function("raw, one signature and a hash", |b| b.iter(|| proofs.raw_of_known(next())));
    group.bench_function("request with a remembered token", |b| b.iter(|| proofs.ask(&known, next())));
    group.finish();
    let mut group = c.benchmark_group("size");
    for size in [512, 1024, 2048, 4096, 8192 - 256] {
        let headers = authorizations(&tokens("ES256", size, TOKENS));
        let cold = Host::new(keys("ES256", 1), 8);
        let hot = Host::new(keys("ES256", 1), 4096);
        let mut i = 0;
        group.bench_function(BenchmarkId::new("cold", headers[0].len()), |b| {
            b.iter(|| {
                i += 1;
                cold.allow(&headers[i % TOKENS])
            })
        });
        group.bench_function(BenchmarkId::new("hot", headers[0].len()), |b| b.iter(|| hot.allow(&headers[0])));
    }
    group.finish();
    let mut group = c.benchmark_group("keys");
    for count in [1, 10, 64] {
        let headers = authorizations(&tokens("ES256", 800, TOKENS));
        let cold = Host::new(keys("ES256", count), 8);
        let hot = Host::new(keys("ES256", count), 4096);
        let mut i = 0;
        group.bench_function(BenchmarkId::new("cold", count), |b| {
            b.iter(|| {
                i += 1;
                cold.allow(&headers[i % TOKENS])
            })
        });
        group.bench_function(BenchmarkId::new("hot", count), |b| b.iter(|| hot.allow(&headers[0])));
    }
    group.finish();
    c.bench_function("thumbprint of DER", |b| b.iter(|| Thumbprint::of_der(black_box(CLIENT_A))));
}

/// Nanoseconds of this thread's processor time: what else runs on the machine counts less.
fn clock() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Nanoseconds of one call, in a short burst.
fn time(calls: usize, mut f: impl FnMut(usize)) -> f64 {
    let start = clock();
    for i in 0..calls {
        f(i);
    }
    (clock() - start) / calls as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ratios() {
    println!(
        "\ncold check / raw signature, {BACKEND}, interleaved, 800-byte tokens (median of the rounds' ratios; best times)"
    );
    for alg in ALGORITHMS {
        let tokens = tokens(alg, 800, TOKENS);
        let raw = Raw::new(alg, &tokens);
        let headers = authorizations(&tokens);
        let cold = Host::new(keys(alg, 1), 8);
        let (ratio, best_raw, best_cold) = compare(|i| raw.verify(i), |i| cold.allow(&headers[i]));
        println!(
            "{alg:6} ratio {ratio:.3}   raw {:7.2} us   cold {:7.2} us   above it {:5.2} us",
            best_raw / 1000.0,
            best_cold / 1000.0,
            (best_cold - best_raw) / 1000.0
        );
    }
}

/// Two things in turn: the median of the ratios of the second to the first, and the best time of each.
fn compare(mut one: impl FnMut(usize), mut other: impl FnMut(usize)) -> (f64, f64, f64) {
    let (mut of_rounds, mut best_one, mut best_other) = (Vec::new(), f64::MAX, f64::MAX);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let (o, t) = (time(TOKENS, &mut one), time(TOKENS, &mut other));
        of_rounds.push(t / o);
        best_one = best_one.min(o);
        best_other = best_other.min(t);
    }
    (median(of_rounds), best_one, best_other)
}

fn proof_ratios() {
    println!("\nrequest with a proof / raw signatures and a hash, {BACKEND}, ES256, interleaved, likewise");
    let (proofs, cold, known) = (Proofs::new(TOKENS), Prover::new(8, |_| {}), Prover::new(4096, |_| {}));
    let print = |name: &str, (ratio, raw, request): (f64, f64, f64)| {
        println!(
            "{name:16} ratio {ratio:.3}   raw {:7.2} us   request {:7.2} us   above it {:5.2} us",
            raw / 1000.0,
            request / 1000.0,
            (request - raw) / 1000.0
        );
    };
    print("new token", compare(|i| proofs.raw(i), |i| proofs.ask(&cold, i)));
    print("remembered token", compare(|i| proofs.raw_of_known(i), |i| proofs.ask(&known, i)));
    let nonce = Nonce::new();
    let (_, without, with) = compare(|_| nonce.refuse(&nonce.without), |_| nonce.refuse(&nonce.with));
    println!("nonce {:.2} us", (with - without) / 1000.0);
}

/// What `benches/hot.c` decides about: the C call is timed and counted in C.
fn write_fixtures(folder: &Path) {
    std::fs::create_dir_all(folder).expect("writable");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("writable");
    for count in [1, 10, 64] {
        write(
            &format!("config-{count}.json"),
            &common::config(|c| c["jwks"] = json!({ "keys": keys("RS256", count) })),
        );
    }
    write("authorization", authorizations(&tokens("RS256", 800, 1))[0].as_bytes());
    write("client.der", CLIENT_A);
}

fn main() {
    write_fixtures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench"));
    if std::env::var_os("RATIOS_ONLY").is_none() {
        let mut criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .sample_size(30)
            .configure_from_args();
        benches(&mut criterion);
        criterion.final_summary();
    }
    ratios();
    proof_ratios();
}
