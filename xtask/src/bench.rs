//! The verb `bench`: cold start against a bare function, memory, and processor time per request of the functions as they are deployed.
//!
//! It prints and judges nothing: on another machine or a busy one the figures differ. Ratios of one run compare.

use std::process::Command;
use std::sync::Arc;

use crate::build::{cargo, host};
use crate::failure::Result;
use crate::local::Local;
use crate::options::Options;
use crate::paths;
use crate::procs::Procs;
use crate::report;

pub(crate) fn run(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    let host = host(procs)?;
    report::step(
        "build the functions as they are deployed (takes minutes)",
        || {
            let mut build = cargo();
            build.args([
                "build",
                "--release",
                "--bins",
                "--target",
                &host,
                "--package",
                "bench",
            ]);
            for function in paths::functions()? {
                build.args(["--package", &function]);
            }
            procs.run("cargo build", &mut build)
        },
    )?;
    // Only its AWS services are used; the benchmark runs the functions itself.
    let local = Local::start(procs, options, Some("bench"))?;
    let stack = local.describe(&local.deployment.api_url)?;
    let folder = paths::target().join(host).join("release");
    let mut bench = Command::new(folder.join("bench"));
    bench.arg(&folder).arg(stack);
    procs.run_lines("bench", &mut bench, |line| println!("{line}"))?;
    local.check()
}
