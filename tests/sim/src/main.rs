//! `simulate [--seeds N] [--from S] [--seed S] [--case NAME] [--random] [--exhaustive]`: runs, and how they end. `cargo xtask simulate`
//! builds and calls it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "telling a person what happened is this program's job"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use sim::{Outcome, exhaust, logs, run_seed, shop::few, shop::shops};

/// Failures shown in full.
const SHOWN: usize = 3;

struct Wanted {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    case: Option<String>,
    exhaustive: bool,
    threads: usize,
}

fn main() -> ExitCode {
    let wanted = match wanted(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    // A panic is a violation, and told with the rest of it.
    std::panic::set_hook(Box::new(|_| ()));
    let good = match (&wanted.seed, &wanted.case) {
        (Some(seed), _) => replay(Some(on_this_thread(|shops| run_seed(*seed, shops, true)))),
        (_, Some(name)) => replay(on_this_thread(|shops| exhaust::replay(name, &few(shops)))),
        _ => all(&wanted),
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn wanted(mut args: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted {
        seeds: 50_000,
        from: 0,
        seed: None,
        case: None,
        exhaustive: true,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value
                .parse::<u64>()
                .map_err(|error| format!("{arg} {value}: {error}"))
        };
        match arg.as_str() {
            "--seeds" => wanted.seeds = number()?,
            "--from" => wanted.from = number()?,
            "--seed" => wanted.seed = Some(number()?),
            "--case" => wanted.case = Some(args.next().ok_or("--case needs a name")?),
            "--threads" => wanted.threads = usize::try_from(number()?).unwrap_or(1).max(1),
            "--random" => wanted.exhaustive = false,
            other => return Err(format!("{other} is not understood")),
        }
    }
    Ok(wanted)
}

fn on_this_thread<T>(act: impl FnOnce(&[std::sync::Arc<sim::shop::Shop>]) -> T) -> T {
    let shops = shops();
    let _guard = logs::listen();
    act(&shops)
}

fn replay(outcome: Option<Outcome>) -> bool {
    let Some(outcome) = outcome else {
        eprintln!("error: there is no such case");
        return false;
    };
    for line in &outcome.trace {
        println!("{line}");
    }
    match &outcome.violation {
        Some(violation) => println!("\nVIOLATION: {violation}"),
        None => println!("\nit ends well"),
    }
    outcome.violation.is_none()
}

/// What ended badly, by kind: how often, and the first of its kind.
#[derive(Default)]
struct Failures(Mutex<BTreeMap<String, (usize, String, String)>>);

impl Failures {
    fn add(&self, how: String, words: &str, outcome: &Outcome) {
        let Some(violation) = &outcome.violation else {
            return;
        };
        let kind: String = violation
            .chars()
            .map(|c| if c.is_ascii_digit() { '#' } else { c })
            .collect();
        let mut all = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = all
            .entry(kind)
            .or_insert_with(|| (0, how, format!("{violation}; {words}")));
        known.0 = known.0.saturating_add(1);
    }
}

fn all(wanted: &Wanted) -> bool {
    let start = Instant::now();
    let failures = Failures::default();
    let threads = wanted.threads;
    let (cases, stops) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (next, first) = (AtomicU64::new(wanted.from), AtomicU64::new(u64::MAX));
    let end = wanted.from.saturating_add(wanted.seeds);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (failures, cases, stops, next, first) = (&failures, &cases, &stops, &next, &first);
            scope.spawn(move || {
                on_this_thread(|shops| {
                    if wanted.exhaustive {
                        let (part, few) = ((thread, threads), few(shops));
                        let tell = |name: String, words: String, outcome: Outcome| {
                            failures.add(format!("--case {name}"), &words, &outcome)
                        };
                        let count = exhaust::flows(&few, part, tell)
                            .saturating_add(exhaust::pairs(&few, part, tell));
                        cases.fetch_add(count, Ordering::Relaxed);
                    }
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return;
                        }
                        let outcome = run_seed(seed, shops, false);
                        stops.fetch_add(outcome.stops, Ordering::Relaxed);
                        if outcome.violation.is_some() {
                            first.fetch_min(seed, Ordering::Relaxed);
                        }
                        failures.add(format!("--seed {seed}"), "", &outcome);
                    }
                });
            });
        }
    });
    let failures = failures
        .0
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for (shown, (kind, (times, how, words))) in failures.iter().enumerate() {
        println!(
            "VIOLATION ({times} times): {kind}\n  {words}\n  replay: cargo xtask simulate {how}"
        );
        if shown < SHOWN {
            show_end(how);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} cases of one fault or two functions at once, {} random schedules with {} stops, {seconds:.1} s on {threads} threads",
        cases.into_inner(),
        wanted.seeds,
        stops.into_inner(),
    );
    let first = first.into_inner();
    if first < u64::MAX {
        println!(
            "first bad seed: {first}, after {} schedules",
            first.saturating_sub(wanted.from).saturating_add(1)
        );
    }
    failures.is_empty()
}

/// The end of a failed run's trace.
fn show_end(how: &str) {
    let outcome = on_this_thread(|shops| match how.split_once(' ') {
        Some(("--seed", seed)) => seed.parse().ok().map(|seed| run_seed(seed, shops, true)),
        Some((_, name)) => exhaust::replay(name, &few(shops)),
        None => None,
    });
    let trace = outcome.map(|o| o.trace).unwrap_or_default();
    let from = trace.len().saturating_sub(60);
    for line in trace.iter().skip(from) {
        println!("    {line}");
    }
}
