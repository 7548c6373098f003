//! What an engine counts. One atomic addition for each request; names and labels are made when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::reason::{Answer, Reason};
use crate::session::Method;
use crate::steps::{Endpoint, Fetched, Outcome};

/// Where the decision's facts came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The token was not looked up, or is no token.
    None,
    /// Remembered.
    Hit,
    /// Verified or introspected for this request.
    Miss,
}

const SOURCES: [(Source, &str); 3] = [(Source::None, "none"), (Source::Hit, "hit"), (Source::Miss, "miss")];

/// Upper bounds of the latency histogram, in microseconds, and as OpenMetrics writes them.
const BUCKETS: [(u32, &str); 9] = [
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (2_500_000, "2.5"),
];

/// An answered exchange counts as `ok` or `status`, another by how it ended.
const OUTCOMES: usize = Outcome::ALL.len() + 1;
/// Buckets, the one without end, the count and the sum.
const HISTOGRAM: usize = BUCKETS.len() + 3;
const COUNT: usize = BUCKETS.len() + 1;

const SUM: usize = BUCKETS.len() + 2;
/// Request counters of one issuer.
const ROW: usize = Reason::ALL.len() * SOURCES.len();

/// One counter.
#[derive(Debug)]
pub struct Counter {
    /// The metric family
    pub family: &'static str,
    /// Its OpenMetrics type
    pub kind: &'static str,
    /// What it counts
    pub help: &'static str,
    /// The sample: name and labels
    pub sample: String,
    /// What the value is to be divided by
    pub divisor: u32,
}

const REQUESTS: (&str, &str, &str) = ("keybound_requests", "counter", "Requests by decision and reason.");
const INTROSPECTION_CACHE: (&str, &str, &str) =
    ("keybound_introspection_cache", "counter", "Introspections that the shared store answered, or did not.");
const BINDING_SKIPPED: (&str, &str, &str) = (
    "keybound_binding_skipped",
    "counter",
    "Allowed requests whose proof of possession was not checked, by the method that let them in.",
);
const REVOCATIONS: (&str, &str, &str) =
    ("keybound_revocations", "counter", "Tokens that a logout revoked, or could not.");
const AS_REQUESTS: (&str, &str, &str) =
    ("keybound_as_requests", "counter", "Requests to the authorization server, by how they ended.");
const AS_LATENCY: (&str, &str, &str) =
    ("keybound_as_request_duration_seconds", "histogram", "How long requests to the authorization server took.");

/// The counters of one engine.
pub(crate) struct Metrics {
    issuers: Vec<String>,
    /// What is not allowed counts as this decision.
    otherwise: &'static str,
    requests: Vec<AtomicU64>,
    introspection_cache: [AtomicU64; 2],
    binding_skipped: [AtomicU64; Method::ALL.len()],
    revocations: [AtomicU64; 2],
    fetches: Vec<AtomicU64>,
    latency: Vec<AtomicU64>,
}

impl Metrics {
    pub(crate) fn new(issuers: Vec<String>, report_only: bool) -> Metrics {
        let zeros = |n: usize| std::iter::repeat_with(AtomicU64::default).take(n).collect();
        let servers = issuers.len().saturating_mul(Endpoint::ALL.len());
        Metrics {
            // One more for tokens that name no issuer of ours.
            requests: zeros(issuers.len().saturating_add(1).saturating_mul(ROW)),
            introspection_cache: Default::default(),
            binding_skipped: Default::default(),
            revocations: Default::default(),
            fetches: zeros(servers.saturating_mul(OUTCOMES)),
            latency: zeros(servers.saturating_mul(HISTOGRAM)),
            issuers,
            otherwise: if report_only { "report" } else { "deny" },
        }
    }

    /// Counts a decision about a token of the issuer at this place; a place that is none counts as no issuer.
    pub(crate) fn decided(&self, issuer: usize, source: Source, reason: Reason) {
        let row = issuer.min(self.issuers.len()).wrapping_mul(SOURCES.len()).wrapping_add(source as usize);
        add(&self.requests, row.wrapping_mul(Reason::ALL.len()).wrapping_add(reason.place()), 1);
    }

    pub(crate) fn introspection_cache(&self, hit: bool) {
        add(&self.introspection_cache, usize::from(!hit), 1);
    }

    /// Counts a request that was let through without a proof of possession.
    pub(crate) fn binding_skipped(&self, method: Method) {
        add(&self.binding_skipped, method as usize, 1);
    }

    /// Counts a token of a logout.
    pub(crate) fn revoked(&self, is_done: bool) {
        add(&self.revocations, usize::from(!is_done), 1);
    }

    pub(crate) fn fetched(&self, server: usize, endpoint: Endpoint, fetched: &Fetched) {
        let outcome = match (fetched.outcome, fetched.status) {
            (Outcome::Answered, 200) => 0,
            (Outcome::Answered, _) => 1,
            (other, _) => Outcome::ALL.iter().position(|o| *o == other).unwrap_or_default().wrapping_add(1),
        };
        let row = server.wrapping_mul(Endpoint::ALL.len()).wrapping_add(endpoint as usize);
        add(&self.fetches, row.wrapping_mul(OUTCOMES).wrapping_add(outcome), 1);
        if fetched.outcome == Outcome::Busy {
            return;
        }
        let first = row.wrapping_mul(HISTOGRAM);
        for (i, (bound, _)) in BUCKETS.iter().enumerate() {
            add(&self.latency, first.wrapping_add(i), u64::from(fetched.elapsed_us <= *bound));
        }
        add(&self.latency, first.wrapping_add(BUCKETS.len()), 1);
        add(&self.latency, first.wrapping_add(COUNT), 1);
        add(&self.latency, first.wrapping_add(SUM), u64::from(fetched.elapsed_us));
    }

    /// The values, in the order of [`Metrics::describe`].
    pub(crate) fn values(&self) -> impl Iterator<Item = u64> {
        let all = self.requests.iter().chain(&self.introspection_cache).chain(&self.binding_skipped);
        let all = all.chain(&self.revocations).chain(&self.fetches).chain(&self.latency);
        all.map(|value| value.load(Ordering::Relaxed))
    }

    /// What each value is.
    pub(crate) fn describe(&self) -> Vec<Counter> {
        let counter = |(family, kind, help), sample| Counter { family, kind, help, sample, divisor: 1 };
        let issuers = || self.issuers.iter().map(|issuer| label(issuer));
        let mut all = Vec::new();
        for issuer in issuers().chain([String::new()]) {
            for (_, cache) in SOURCES {
                for reason in Reason::ALL {
                    let decision = match reason.answer() {
                        Answer::Allow => "allow",
                        Answer::Redirect => "redirect",
                        _ => self.otherwise,
                    };
                    let labels = format!(
                        "issuer=\"{issuer}\",decision=\"{decision}\",reason=\"{}\",cache=\"{cache}\"",
                        reason.code()
                    );
                    all.push(counter(REQUESTS, format!("keybound_requests_total{{{labels}}}")));
                }
            }
        }
        for result in ["hit", "miss"] {
            let sample = format!("keybound_introspection_cache_total{{result=\"{result}\"}}");
            all.push(counter(INTROSPECTION_CACHE, sample));
        }
        for method in Method::ALL {
            let sample = format!("keybound_binding_skipped_total{{method=\"{}\"}}", method.name());
            all.push(counter(BINDING_SKIPPED, sample));
        }
        for result in ["done", "failed"] {
            all.push(counter(REVOCATIONS, format!("keybound_revocations_total{{result=\"{result}\"}}")));
        }
        let endpoints = || {
            issuers().flat_map(|issuer| Endpoint::ALL.map(|e| format!("issuer=\"{issuer}\",endpoint=\"{}\"", e.name())))
        };
        for labels in endpoints() {
            let outcomes = ["ok", "status"].into_iter().chain(Outcome::ALL.iter().skip(1).map(|o| o.name()));
            for outcome in outcomes {
                let sample = format!("keybound_as_requests_total{{{labels},outcome=\"{outcome}\"}}");
                all.push(counter(AS_REQUESTS, sample));
            }
        }
        for labels in endpoints() {
            for le in BUCKETS.iter().map(|(_, le)| *le).chain(["+Inf"]) {
                let sample = format!("keybound_as_request_duration_seconds_bucket{{{labels},le=\"{le}\"}}");
                all.push(counter(AS_LATENCY, sample));
            }
            all.push(counter(AS_LATENCY, format!("keybound_as_request_duration_seconds_count{{{labels}}}")));
            let sum = counter(AS_LATENCY, format!("keybound_as_request_duration_seconds_sum{{{labels}}}"));
            all.push(Counter { divisor: 1_000_000, ..sum });
        }
        all
    }
}

fn add(counters: &[AtomicU64], index: usize, n: u64) {
    if let Some(counter) = counters.get(index) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// A label value, escaped (OpenMetrics, section "Escaping").
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What the counters of engines say, as OpenMetrics text.
#[derive(Default)]
pub struct Page {
    /// By family: what it is, and its samples
    families: Vec<(&'static str, &'static str, &'static str, Vec<Sample>)>,
    /// Where each sample is in its family: engines of many issuers have thousands
    places: BTreeMap<String, usize>,
}

struct Sample {
    text: String,
    value: u64,
    divisor: u32,
}

impl Page {
    /// Adds the counters of an engine, with their values, to those that are there.
    pub fn add(&mut self, described: &[Counter], values: &[u64]) {
        for (counter, value) in described.iter().zip(values) {
            let place = self.families.iter().position(|(family, ..)| *family == counter.family);
            let samples = match place.and_then(|place| self.families.get_mut(place)) {
                Some((.., samples)) => samples,
                None => {
                    self.families.push((counter.family, counter.kind, counter.help, Vec::new()));
                    match self.families.last_mut() {
                        Some((.., samples)) => samples,
                        None => continue,
                    }
                }
            };
            match self.places.get(&counter.sample).and_then(|place| samples.get_mut(*place)) {
                Some(sample) => sample.value = sample.value.saturating_add(*value),
                None => {
                    self.places.insert(counter.sample.clone(), samples.len());
                    let (text, divisor) = (counter.sample.clone(), counter.divisor);
                    samples.push(Sample { text, value: *value, divisor });
                }
            }
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (family, kind, help, samples) in &self.families {
            writeln!(f, "# TYPE {family} {kind}\n# HELP {family} {help}")?;
            // A histogram is there with all its buckets or not at all; its sum is the last of it.
            let ends = |sample: &Sample| *kind != "histogram" || sample.text.contains("_sum{");
            for group in samples.split_inclusive(ends).filter(|group| group.iter().any(|sample| sample.value > 0)) {
                for Sample { text, value, divisor } in group {
                    match divisor {
                        1 => writeln!(f, "{text} {value}")?,
                        _ => writeln!(f, "{text} {:.6}", *value as f64 / f64::from(*divisor))?,
                    }
                }
            }
        }
        writeln!(f, "# EOF")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::FetchAnswer;

    fn nonzero(metrics: &Metrics) -> Vec<String> {
        let described = metrics.describe();
        assert_eq!(described.len(), metrics.values().count());
        let pairs = described.iter().zip(metrics.values());
        pairs.filter(|(_, value)| *value > 0).map(|(counter, value)| format!("{} {value}", counter.sample)).collect()
    }

    #[test]
    fn each_value_stands_where_its_description_does() {
        let metrics = Metrics::new(vec!["https://a.test".into(), "https://b\"\\.test".into()], false);
        for reason in Reason::ALL {
            metrics.decided(1, Source::Miss, *reason);
            metrics.decided(9, Source::None, *reason);
        }
        metrics.introspection_cache(false);
        let counted = nonzero(&metrics);
        assert_eq!(counted.len(), 2 * Reason::ALL.len() + 1);
        for reason in Reason::ALL {
            let decision = match reason.answer() {
                Answer::Allow => "allow",
                Answer::Redirect => "redirect",
                _ => "deny",
            };
            let sample = |issuer: &str, cache: &str| {
                format!(
                    "keybound_requests_total{{issuer=\"{issuer}\",decision=\"{decision}\",reason=\"{}\",cache=\"{cache}\"}} 1",
                    reason.code()
                )
            };
            assert!(counted.contains(&sample("https://b\\\"\\\\.test", "miss")));
            assert!(counted.contains(&sample("", "none")));
        }
        assert!(counted.contains(&"keybound_introspection_cache_total{result=\"miss\"} 1".to_owned()));
    }

    #[test]
    fn what_is_only_reported_counts_as_that() {
        let metrics = Metrics::new(vec!["i".into()], true);
        metrics.decided(0, Source::Hit, Reason::Allowed);
        metrics.decided(0, Source::Hit, Reason::CertificateMismatch);
        assert_eq!(
            nonzero(&metrics),
            [
                "keybound_requests_total{issuer=\"i\",decision=\"allow\",reason=\"allowed\",cache=\"hit\"} 1",
                "keybound_requests_total{issuer=\"i\",decision=\"report\",reason=\"certificate_mismatch\",cache=\"hit\"} 1",
            ]
        );
        assert!(metrics.describe().iter().all(|counter| !counter.sample.contains("deny")));
    }

    const HEADS: [&str; 6] = [
        "# TYPE keybound_requests counter\n# HELP keybound_requests Requests by decision and reason.\n",
        "# TYPE keybound_introspection_cache counter\n\
         # HELP keybound_introspection_cache Introspections that the shared store answered, or did not.\n",
        "# TYPE keybound_binding_skipped counter\n\
         # HELP keybound_binding_skipped Allowed requests whose proof of possession was not checked, by the method that let them in.\n",
        "# TYPE keybound_revocations counter\n# HELP keybound_revocations Tokens that a logout revoked, or could not.\n",
        "# TYPE keybound_as_requests counter\n\
         # HELP keybound_as_requests Requests to the authorization server, by how they ended.\n",
        "# TYPE keybound_as_request_duration_seconds histogram\n\
         # HELP keybound_as_request_duration_seconds How long requests to the authorization server took.\n",
    ];

    /// A page with these samples behind the head of their family.
    fn page_of(samples: [&str; 6]) -> String {
        let families = HEADS.iter().zip(samples).map(|(head, samples)| format!("{head}{samples}"));
        families.chain(["# EOF\n".to_owned()]).collect()
    }

    fn put(page: &mut Page, metrics: &Metrics) {
        page.add(&metrics.describe(), &metrics.values().collect::<Vec<_>>());
    }

    #[test]
    fn openmetrics_a_page_has_the_head_of_every_family_and_the_counters_that_counted() {
        let metrics = Metrics::new(vec!["i".into()], false);
        let mut page = Page::default();
        assert_eq!(page.to_string(), "# EOF\n");
        put(&mut page, &metrics);
        assert_eq!(page.to_string(), page_of([""; 6]));
        metrics.decided(0, Source::Hit, Reason::Allowed);
        metrics.decided(0, Source::Hit, Reason::Allowed);
        metrics.revoked(true);
        let mut page = Page::default();
        put(&mut page, &metrics);
        let requests = "keybound_requests_total{issuer=\"i\",decision=\"allow\",reason=\"allowed\",cache=\"hit\"} 2\n";
        let revocations = "keybound_revocations_total{result=\"done\"} 1\n";
        assert_eq!(page.to_string(), page_of([requests, "", "", revocations, "", ""]));
    }

    #[test]
    fn openmetrics_a_histogram_is_on_a_page_with_all_its_buckets_and_its_sum_in_seconds() {
        let metrics = Metrics::new(vec!["i".into(), "j".into()], false);
        let answer = FetchAnswer { status: 200, elapsed_us: 1_030_000, ..FetchAnswer::failed(Outcome::Answered) };
        metrics.fetched(1, Endpoint::Jwks, &answer.into());
        let mut page = Page::default();
        put(&mut page, &metrics);
        // Of the first issuer, and of the other endpoints, there is nothing at all.
        let labels = "issuer=\"j\",endpoint=\"jwks\"";
        let name = "keybound_as_request_duration_seconds";
        let mut histogram = String::new();
        for (le, n) in BUCKETS.iter().map(|(_, le)| (*le, u64::from(*le == "2.5"))).chain([("+Inf", 1)]) {
            histogram.push_str(&format!("{name}_bucket{{{labels},le=\"{le}\"}} {n}\n"));
        }
        histogram.push_str(&format!("{name}_count{{{labels}}} 1\n{name}_sum{{{labels}}} 1.030000\n"));
        let requests = format!("keybound_as_requests_total{{{labels},outcome=\"ok\"}} 1\n");
        assert_eq!(page.to_string(), page_of(["", "", "", "", &requests, &histogram]));
    }

    #[test]
    fn openmetrics_what_several_engines_count_is_on_a_page_once_and_added_up() {
        let (one, two) = (Metrics::new(vec!["i".into()], false), Metrics::new(vec!["j".into(), "i".into()], false));
        let answer = FetchAnswer { status: 200, elapsed_us: 500_000, ..FetchAnswer::failed(Outcome::Answered) };
        for (metrics, place) in [(&one, 0), (&two, 1)] {
            metrics.decided(place, Source::Hit, Reason::Allowed);
            metrics.fetched(place, Endpoint::Jwks, &answer.into());
        }
        // What only the second has stands behind, in the family that is there.
        two.decided(0, Source::Miss, Reason::NoToken);
        two.fetched(0, Endpoint::Jwks, &answer.into());
        let mut page = Page::default();
        put(&mut page, &one);
        put(&mut page, &two);
        let text = page.to_string();
        assert_eq!(text.matches("# TYPE").count(), HEADS.len());
        let requests: Vec<&str> = text.lines().filter(|line| line.starts_with("keybound_requests_total")).collect();
        assert_eq!(
            requests,
            [
                "keybound_requests_total{issuer=\"i\",decision=\"allow\",reason=\"allowed\",cache=\"hit\"} 2",
                "keybound_requests_total{issuer=\"j\",decision=\"deny\",reason=\"no_token\",cache=\"miss\"} 1",
            ]
        );
        let times: Vec<&str> = text.lines().filter(|line| line.starts_with("keybound_as_request_duration")).collect();
        assert_eq!(times.len(), 2 * HISTOGRAM);
        for (times, issuer, n) in [(&times[..HISTOGRAM], "i", 2), (&times[HISTOGRAM..], "j", 1)] {
            assert!(times.iter().all(|line| line.contains(&format!("issuer=\"{issuer}\""))), "{times:?}");
            assert!(times[COUNT].ends_with(&format!("}} {n}")), "{}", times[COUNT]);
            assert!(times[SUM].ends_with(&format!("}} {}.{}00000", n / 2, n % 2 * 5)), "{}", times[SUM]);
        }
        // A sum that is too large for a number is the largest one.
        let described = one.describe();
        let mut page = Page::default();
        page.add(&described, &vec![u64::MAX; described.len()]);
        page.add(&described, &vec![1; described.len()]);
        let largest = format!("reason=\"allowed\",cache=\"hit\"}} {}\n", u64::MAX);
        assert!(page.to_string().contains(&largest));
    }

    #[test]
    fn an_exchange_is_counted_by_its_end_and_in_every_bucket_that_holds_it() {
        let metrics = Metrics::new(vec!["i".into(), "j".into()], false);
        let answer = FetchAnswer { status: 200, elapsed_us: 30_000, ..FetchAnswer::failed(Outcome::Answered) };
        metrics.fetched(1, Endpoint::Introspection, &answer.into());
        metrics.fetched(1, Endpoint::Introspection, &FetchAnswer { status: 500, ..answer }.into());
        metrics.fetched(
            0,
            Endpoint::Jwks,
            &FetchAnswer { elapsed_us: 3_000_000, ..FetchAnswer::failed(Outcome::Timeout) }.into(),
        );
        metrics.fetched(0, Endpoint::Token, &FetchAnswer::failed(Outcome::Busy).into());
        let labels = "issuer=\"j\",endpoint=\"introspection\"";
        let mut expected = vec![
            "keybound_as_requests_total{issuer=\"i\",endpoint=\"jwks\",outcome=\"timeout\"} 1".to_owned(),
            "keybound_as_requests_total{issuer=\"i\",endpoint=\"token\",outcome=\"busy\"} 1".to_owned(),
            format!("keybound_as_requests_total{{{labels},outcome=\"ok\"}} 1"),
            format!("keybound_as_requests_total{{{labels},outcome=\"status\"}} 1"),
            "keybound_as_request_duration_seconds_bucket{issuer=\"i\",endpoint=\"jwks\",le=\"+Inf\"} 1".to_owned(),
            "keybound_as_request_duration_seconds_count{issuer=\"i\",endpoint=\"jwks\"} 1".to_owned(),
            "keybound_as_request_duration_seconds_sum{issuer=\"i\",endpoint=\"jwks\"} 3000000".to_owned(),
        ];
        for le in ["0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "+Inf"] {
            expected.push(format!("keybound_as_request_duration_seconds_bucket{{{labels},le=\"{le}\"}} 2"));
        }
        expected.push(format!("keybound_as_request_duration_seconds_count{{{labels}}} 2"));
        expected.push(format!("keybound_as_request_duration_seconds_sum{{{labels}}} 60000"));
        assert_eq!(nonzero(&metrics), expected);
    }
}
