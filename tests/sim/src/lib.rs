#![doc = include_str!("../README.md")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test: its sums are small, and a panic is an answer"
)]

mod check;
pub mod exhaust;
pub mod logs;
mod process;
pub mod rng;
pub mod run;
pub mod shop;
mod vendors;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use run::Run;
use shop::Shop;

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong.
    pub violation: Option<String>,
    /// What happened, if it was wanted.
    pub trace: Vec<String>,
    /// A hash of what happened, if it was wanted.
    pub print: u64,
    /// How often a process stopped.
    pub stops: usize,
}

/// The run of a seed.
#[must_use]
pub fn run_seed(seed: u64, shops: &[Arc<Shop>], traced: bool) -> Outcome {
    let index =
        usize::try_from(rng::Rng::new(seed ^ 0x9e37).number() % 1024).unwrap_or(0) % shops.len();
    let mut run = Run::new(seed, &shops[index], traced);
    run.may_become(&shop::later_documents());
    judge(run, Run::storm)
}

/// Lets a run happen; a panic is a violation like any other.
pub fn judge(mut run: Run, act: impl FnOnce(&mut Run)) -> Outcome {
    let world = run.world.clone();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        act(&mut run);
        run.stops
    }));
    world.with(|s| {
        if let Err(panic) = &ended {
            let words = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            s.wrong(|| format!("panic: {}", words.unwrap_or_default()));
        }
        Outcome {
            violation: s.violation.take(),
            trace: s.trace.take().unwrap_or_default(),
            print: s.print,
            stops: ended.unwrap_or(0),
        }
    })
}
