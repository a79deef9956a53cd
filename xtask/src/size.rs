//! The verb `size`: what is uploaded for each function, against `xtask/size-limits.json`.
//!
//! Time and memory are not measured here: they belong to a benchmark that prints a ratio to a bare function of the same run.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::build;
use crate::failure::{Context as _, Failure, Result};
use crate::paths;
use crate::procs::Procs;
use crate::report;
use crate::tools::{self, Set};

const LIMITS: &str = "xtask/size-limits.json";

pub(crate) fn run(procs: &Arc<Procs>) -> Result<()> {
    tools::install(procs, &[Set::CargoLambda])?;
    let folder = paths::target().join("size");
    report::step(
        "build the functions as they are deployed (takes minutes)",
        || {
            let mut build = build::cargo_lambda();
            build
                .args([
                    "build",
                    "--release",
                    "--compiler",
                    "cargo",
                    "--output-format",
                    "zip",
                    "--lambda-dir",
                ])
                .arg(&folder);
            build::select(&mut build)?;
            procs.run("cargo lambda build", &mut build)
        },
    )?;
    let binaries = paths::target().join(build::host(procs)?).join("release");
    let limits: Value =
        serde_json::from_str(&paths::read(&paths::root().join(LIMITS))?).doing(LIMITS)?;
    let mut too_large = Vec::new();
    println!(
        "\n  {:<16}{:>14}{:>14}{:>14}",
        "function", "binary", "zip", "zip limit"
    );
    for function in paths::functions()? {
        let limit = limits
            .get(&function)
            .or_else(|| limits.get("any"))
            .and_then(Value::as_u64)
            .doing(format!("{LIMITS} names no limit for {function}"))?;
        let binary = length(&binaries.join(&function))?;
        let zip = length(&folder.join(&function).join("bootstrap.zip"))?;
        println!("  {function:<16}{binary:>14}{zip:>14}{limit:>14}");
        if zip > limit {
            too_large.push(function);
        }
    }
    if too_large.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "larger than {LIMITS} allows: {}",
            too_large.join(", ")
        )))
    }
}

fn length(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).doing(path.display())?.len())
}
