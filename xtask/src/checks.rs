//! What can be said about the code without running it.

use std::sync::Arc;

use crate::build::{cargo, host};
use crate::failure::{Failure, Result};
use crate::procs::Procs;
use crate::report;
use crate::tools::{self, Set};

/// The verb `check`.
pub(crate) fn run(procs: &Arc<Procs>) -> Result<()> {
    tools::install(procs, &[Set::Checks])?;
    // All of them run even if one fails, so that one run tells everything.
    let failures: Vec<Failure> = [format, dependencies, lints, documentation]
        .into_iter()
        .filter_map(|check| check(procs).err())
        .collect();
    for failure in &failures {
        println!("\nFAILED: {failure}");
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::told())
    }
}

pub(crate) fn format(procs: &Procs) -> Result<()> {
    report::step("cargo fmt --check", || {
        procs.run("cargo fmt", cargo().args(["fmt", "--all", "--check"]))
    })
}

pub(crate) fn lints(procs: &Procs) -> Result<()> {
    let host = host(procs)?;
    report::step("cargo clippy", || {
        let mut clippy = cargo();
        clippy.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--quiet",
            "--target",
            &host,
            "--",
            "-D",
            "warnings",
        ]);
        procs.run("cargo clippy", &mut clippy)
    })
}

/// Licences, sources, banned crates and known vulnerabilities; and dependencies that nothing uses.
pub(crate) fn dependencies(procs: &Procs) -> Result<()> {
    report::step("cargo deny: bans, licences, sources", || {
        let mut deny = Set::Checks.command("cargo-deny");
        procs.run(
            "cargo deny",
            deny.args([
                "--log-level",
                "error",
                "check",
                "bans",
                "licenses",
                "sources",
            ]),
        )
    })?;
    report::step("cargo deny: advisories", || advisories(procs))?;
    // Its warnings about files that no `mod` names are not for us: the registries' macros name them.
    report::step("cargo shear: unused dependencies", || {
        procs.run("cargo shear", &mut Set::Checks.command("cargo-shear"))
    })
}

fn documentation(procs: &Procs) -> Result<()> {
    let host = host(procs)?;
    report::step("cargo doc", || {
        let mut doc = cargo();
        doc.args([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
            "--target",
            &host,
        ]);
        procs.run("cargo doc", doc.env("RUSTDOCFLAGS", "-D warnings"))
    })
}

/// The advisory database is a Git repository on GitHub. Where that cannot be reached nothing is known, which is no failure
/// of the code; it is said loudly.
fn advisories(procs: &Procs) -> Result<()> {
    const UNREACHABLE: &str = "failed to fetch advisory database";
    let mut deny = Set::Checks.command("cargo-deny");
    match procs.output(
        "cargo deny",
        deny.args(["--log-level", "error", "check", "advisories"]),
    ) {
        Ok(_) => Ok(()),
        Err(failure) if failure.to_string().contains(UNREACHABLE) => {
            println!("    NOT CHECKED: the advisory database could not be fetched from github.com");
            Ok(())
        }
        Err(failure) => Err(Failure::new(failure.to_string())),
    }
}
