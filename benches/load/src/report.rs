//! The medians of all rounds.

use crate::{CONNECTIONS, Fallible, NONE, Sample, Slice, TARGETS, Target};

/// A median, and the bounds between which it is with a probability of 95 %.
struct Median {
    value: f64,
    low: f64,
    high: f64,
}

fn median(values: impl IntoIterator<Item = f64>) -> Median {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = (values.len() - 1) as f64 / 2.0;
    let reach = 0.98 * (values.len() as f64).sqrt();
    let at = |place: f64| values[(place.round().max(0.0) as usize).min(values.len() - 1)];
    Median { value: at(middle), low: at((middle - reach).floor()), high: at((middle + reach).ceil()) }
}

impl Sample {
    fn mean_of_none(&self, f: fn(&Slice) -> f64) -> f64 {
        self.none.iter().map(f).sum::<f64>() / self.none.len() as f64
    }

    /// Microseconds more than no check takes.
    fn added(&self) -> f64 {
        self.slice.us() - self.mean_of_none(Slice::us)
    }

    fn added_percent(&self) -> f64 {
        self.added() / self.mean_of_none(Slice::us) * 100.0
    }

    fn rate_percent(&self) -> f64 {
        self.slice.rate() / self.mean_of_none(Slice::rate) * 100.0
    }
}

fn samples_of<'a>(name: &str, samples: &'a [Vec<Sample>]) -> Fallible<&'a [Sample]> {
    let place = TARGETS.iter().position(|target| target.name == name).ok_or("no such target")?;
    Ok(&samples[place])
}

/// A figure, and what became of its aim, where it has one.
fn figure(what: &str, figure: &Median, unit: &str, aim: Option<f64>) {
    let aim = aim.map(|aim| {
        let verdict = if figure.value <= aim { "met" } else { "missed" };
        format!("; aim at most {aim}{unit}: {verdict}")
    });
    println!(
        "{what:36} {:7.3}{unit} ({:.3} to {:.3}){}",
        figure.value,
        figure.low,
        figure.high,
        aim.unwrap_or_default()
    );
}

pub(crate) fn print(samples: &[Vec<Sample>], token_bytes: usize) -> Fallible<()> {
    let none = || samples.iter().flatten().map(|sample| sample.none[0]);
    println!(
        "\nend to end: one nginx worker, TLS 1.3, {CONNECTIONS} kept-alive connections with client certificates, RS256 tokens of \
         {token_bytes} bytes,\n{} rounds, all targets interleaved; processor time of the worker a request, against the slices \
         without a check beside it\n(medians; in brackets the bounds of the median, 95 %)\n",
        samples[0].len()
    );
    println!("{:28} {:>7} {:>8} {:>5} {:>8}  added", "", "req/s", "of none", "busy", "CPU us");
    println!(
        "{:28} {:7.0} {:>8} {:4.0}% {:8.2}",
        NONE.what,
        median(none().map(|slice| slice.rate())).value,
        "",
        median(none().map(|slice| slice.busy() * 100.0)).value,
        median(none().map(|slice| slice.us())).value
    );
    for (Target { what, .. }, samples) in TARGETS.iter().zip(samples) {
        let of = |f: fn(&Sample) -> f64| median(samples.iter().map(f));
        let added = of(Sample::added);
        let percent = of(Sample::added_percent);
        println!(
            "{what:28} {:7.0} {:7.1}% {:4.0}% {:8.2} {:+7.2} us ({:+.2} to {:+.2}) {:+6.1}% ({:+.1} to {:+.1})",
            of(|sample| sample.slice.rate()).value,
            of(Sample::rate_percent).value,
            of(|sample| sample.slice.busy() * 100.0).value,
            of(|sample| sample.slice.us()).value,
            added.value,
            added.low,
            added.high,
            percent.value,
            percent.low,
            percent.high
        );
    }

    // Of the two that differ in the verification alone.
    let (verified, decoded) = (samples_of("raw-verified", samples)?, samples_of("raw-decoded", samples)?);
    let signature: Vec<f64> = verified.iter().zip(decoded).map(|(v, d)| v.added() - d.added()).collect();
    let of = median(signature.iter().copied());
    println!("{:28} {:>31} {:+7.2} us ({:+.2} to {:+.2})\n", "the signature alone", "", of.value, of.low, of.high);

    let hot = |name| -> Fallible<Median> { Ok(median(samples_of(name, samples)?.iter().map(Sample::added_percent))) };
    figure("module, hot, above no check", &hot("module-hot")?, " %", Some(1.5));
    figure("Lua, hot, above no check", &hot("lua-hot")?, " %", Some(3.5));
    for (what, name) in [("module, cold", "module-cold"), ("Lua, cold", "lua-cold")] {
        let cold = samples_of(name, samples)?;
        let in_path = median(cold.iter().zip(verified).map(|(cold, verified)| cold.added() / verified.added()));
        // What verifies a signature takes no less than that. Remembered tokens take a thirtieth; noise not the half.
        if in_path.high < 0.5 {
            return Err(format!("{name}: {:.2} of the signature: the tokens were remembered", in_path.value).into());
        }
        figure(&format!("{what} / signature verified"), &in_path, "", Some(1.05));
        let alone = median(cold.iter().zip(&signature).map(|(cold, signature)| cold.added() / signature));
        figure(&format!("{what} / the signature alone"), &alone, "", None);
    }
    let busy = median(none().map(|slice| slice.busy())).value;
    if busy < 0.9 {
        println!(
            "\nThe machine was busy: without a check the worker had {:.0} % of its processor. Better measured in quiet.",
            busy * 100.0
        );
    }
    Ok(())
}
