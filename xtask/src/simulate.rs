//! The verb `simulate`: the use cases in a world in memory where anything goes wrong at any moment, once for each seed.

use std::sync::Arc;

use crate::build::{cargo, host};
use crate::failure::Result;
use crate::options::Options;
use crate::procs::Procs;
use crate::report;

/// The verb.
pub(crate) fn run(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    simulate(procs, &options.simulation)
}

/// What `test` runs: the exhaustive part and 50,000 random schedules.
pub(crate) fn test(procs: &Procs) -> Result<()> {
    report::step("simulation", || simulate(procs, &[]))
}

fn simulate(procs: &Procs, wanted: &[String]) -> Result<()> {
    let host = host(procs)?;
    let mut simulation = cargo();
    // With optimisation: it is a matter of how many runs fit into a minute.
    simulation.args([
        "run",
        "--quiet",
        "--profile",
        "sim",
        "--package",
        "sim",
        "--target",
        &host,
        "--",
    ]);
    procs.run("the simulation", simulation.args(wanted))
}
