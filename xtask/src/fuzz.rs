//! The verb `fuzz`: every target of `fuzz/` under libFuzzer, each for a bounded time, and the replay of their seeds in `test`.
//!
//! cargo-fuzz needs a nightly compiler only because the flags it passes are unstable. They are the same in the pinned stable one,
//! which takes them when it is told to bootstrap. The instrumentation needs no sanitizer: this workspace has no unsafe code.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::build::{cargo, host};
use crate::failure::{Context as _, Failure, Result};
use crate::options::Options;
use crate::paths;
use crate::procs::Procs;
use crate::report;

/// Installed from crates.io with its own lockfile; unlike the other tools it has no ready-made package.
const CARGO_FUZZ: &str = "0.13.2";
const MANIFEST: &str = "fuzz/Cargo.toml";
const SECONDS: u32 = 20;
/// Longer inputs find nothing that these do not, and take longer.
const LONGEST_INPUT: u32 = 8192;

/// A line of what `fuzz/examples/seeds.rs` prints.
struct Target {
    name: String,
    program: String,
    sender: String,
}

pub(crate) fn run(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    let seeds = paths::made(paths::target().join("fuzz/seeds"))?;
    let targets: Vec<Target> = targets(procs, &seeds)?
        .into_iter()
        .filter(|target| {
            options
                .target
                .as_ref()
                .is_none_or(|wanted| target.name == *wanted || target.program == *wanted)
        })
        .collect();
    if targets.is_empty() {
        return Err(Failure::new(format!(
            "there is no such target; the folders of {} are the targets",
            seeds.display()
        )));
    }
    let cargo_fuzz = install(procs)?;
    report::step("build the targets (takes minutes)", || {
        procs.run(
            "cargo fuzz build",
            fuzz(&cargo_fuzz, "build").args(arguments()),
        )
    })?;
    let host = host(procs)?;
    let programs = paths::root().join("fuzz/target").join(host).join("release");
    let seconds = options.seconds.unwrap_or(SECONDS);
    let mut broken = Vec::new();
    for target in &targets {
        let found = paths::made(paths::target().join("fuzz/found").join(&target.name))?;
        let corpus = paths::made(paths::target().join("fuzz/corpus").join(&target.name))?;
        let log = found.join("log");
        let mut program = Command::new(programs.join(&target.program));
        program
            .env("CHATBILL_FUZZ_SENDER", &target.sender)
            .current_dir(paths::root().join("fuzz"))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={LONGEST_INPUT}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args(["-print_final_stats=1", "-timeout=10"])
            .args([corpus, seeds.join(&target.name)]);
        match procs.run_logged(&target.name, &mut program, &log) {
            Ok(()) => println!("  ok {} ({})", target.name, executions(&log)),
            Err(failure) => {
                println!("  FAILED {}\n{failure}", target.name);
                broken.push(format!("{}: {}", target.name, found.display()));
            }
        }
    }
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "what broke them is in\n{}",
            broken.join("\n")
        )))
    }
}

/// The seeds and a fixed sequence of small changes of them, in a plain build.
pub(crate) fn replay(procs: &Procs, line: impl FnMut(&str)) -> Result<()> {
    report::step("replay the seeds of the fuzz targets", || {
        let mut test = cargo();
        test.args(["test", "--quiet", "--locked", "--manifest-path", MANIFEST]);
        procs.run_lines("cargo test in fuzz/", &mut test, line)
    })
}

fn targets(procs: &Procs, seeds: &std::path::Path) -> Result<Vec<Target>> {
    let mut example = cargo();
    example
        .args(["run", "--quiet", "--locked", "--manifest-path", MANIFEST])
        .args(["--example", "seeds", "--"])
        .arg(seeds);
    let printed = report::step("write the seeds", || {
        procs.output("cargo run", &mut example)
    })?;
    printed
        .lines()
        .map(|line| {
            let mut columns = line.split('\t').map(str::to_owned);
            let mut next = || columns.next().doing("a target");
            Ok(Target {
                name: next()?,
                program: next()?,
                sender: next()?,
            })
        })
        .collect()
}

fn install(procs: &Procs) -> Result<PathBuf> {
    let folder = paths::tools().join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let program = folder.join("bin/cargo-fuzz");
    if !program.exists() {
        report::step("install cargo-fuzz (takes minutes)", || {
            let mut install = cargo();
            install
                .args(["install", "--quiet", "--locked", "--version", CARGO_FUZZ])
                .args(["cargo-fuzz", "--root"])
                .arg(&folder)
                .arg("--target-dir")
                .arg(folder.join("build"));
            procs.run("cargo install cargo-fuzz", &mut install)
        })?;
    }
    Ok(program)
}

fn fuzz(program: &std::path::Path, verb: &str) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(paths::root())
        .env_remove("CARGO_TARGET_DIR")
        .env("RUSTC_BOOTSTRAP", "1")
        .arg(verb);
    command
}

const fn arguments() -> [&'static str; 4] {
    ["--features", "libfuzzer", "--sanitizer", "none"]
}

/// What libFuzzer counted.
fn executions(log: &std::path::Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units: "));
    format!("{} executions", count.unwrap_or("an unknown number of"))
}
