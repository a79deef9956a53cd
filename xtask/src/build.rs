//! Builds for this machine.
//!
//! cargo-lambda always names the target, which gives it a folder of its own; every other build names the same target, so
//! that what has the same features is compiled once. Tests still compile some crates again: their own dependencies switch
//! on features that functions do without, and those must not reach what is deployed.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Context as _, Failure, Result};
use crate::paths;
use crate::procs::Procs;
use crate::report;
use crate::tools::Set;

/// A cargo command in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(paths::root())
        .env_remove("CARGO_TARGET_DIR");
    // `cargo run` set these for this program; an inherited one would look like a changed environment to build scripts.
    for name in [
        "CARGO",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PKG_NAME",
        "CARGO_PKG_VERSION",
    ] {
        command.env_remove(name);
    }
    command
}

/// cargo-lambda in the workspace.
pub(crate) fn cargo_lambda() -> Command {
    let mut command = Set::CargoLambda.command("cargo-lambda");
    command.arg("lambda").env_remove("CARGO_TARGET_DIR");
    command
}

/// The target triple of this machine.
pub(crate) fn host(procs: &Procs) -> Result<String> {
    let said = procs.output(
        "rustc -vV",
        Command::new("rustc").arg("-vV").current_dir(paths::root()),
    )?;
    said.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .doing("rustc -vV names no host")
}

/// What the template calls this machine's architecture.
pub(crate) fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("x86_64"),
        "aarch64" => Ok("arm64"),
        other => Err(Failure::new(format!(
            "Lambda has no architecture like this machine's ({other})"
        ))),
    }
}

/// Builds all functions into `target/lambda/`, in the dev profile, as binaries that run here.
pub(crate) fn functions(procs: &Procs) -> Result<()> {
    report::step("build the functions (the first time takes minutes)", || {
        let mut build = cargo_lambda();
        build.args(["build", "--compiler", "cargo"]);
        select(&mut build)?;
        procs.run("cargo lambda build", &mut build)?;
        strip(procs)
    })
}

/// Takes the symbols out of what is uploaded: zipping them is half the time of a deployment. Where there is no `strip`, or
/// it fails, the functions are only larger.
fn strip(procs: &Procs) -> Result<()> {
    if cfg!(target_os = "linux") {
        let mut strip = Command::new("strip");
        for function in paths::functions()? {
            strip.arg(
                paths::target()
                    .join("lambda")
                    .join(function)
                    .join("bootstrap"),
            );
        }
        let _larger = procs.output("strip", &mut strip);
    }
    Ok(())
}

/// Names the functions' packages: without them cargo-lambda would also build the tools of this workspace, and with them.
pub(crate) fn select(command: &mut Command) -> Result<()> {
    for function in paths::functions()? {
        command.args(["--package", &function]);
    }
    Ok(())
}

/// Builds the sandbox and says where it is.
pub(crate) fn sandbox(procs: &Procs) -> Result<PathBuf> {
    let host = host(procs)?;
    report::step("build the sandbox", || {
        procs.run(
            "cargo build",
            cargo().args(["build", "--package", "sandbox", "--bins", "--target", &host]),
        )
    })?;
    Ok(paths::target().join(host).join("debug/sandbox"))
}
