//! The tools: which, in which version, and where they are.
//!
//! Each set of `xtask/tools/` is a virtual environment below `target/tools/`. Every file that pip takes is pinned by its
//! hash, and only ready-made packages are taken: nothing of a tool is compiled or run to install it. A set is made again
//! when its list of pins changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use crate::failure::{Context as _, Failure, Result};
use crate::paths;
use crate::procs::Procs;
use crate::report;

/// One virtual environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// `sam`, `aws`, `cfn-lint`
    Aws,
    /// `ministack`
    Emulator,
    /// `cargo-lambda`
    CargoLambda,
    /// `cargo-deny`, `cargo-shear`
    Checks,
}

const ALL: [Set; 4] = [Set::CargoLambda, Set::Emulator, Set::Aws, Set::Checks];

impl Set {
    fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Emulator => "emulator",
            Self::CargoLambda => "cargo-lambda",
            Self::Checks => "checks",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Aws => "install the SAM CLI, the AWS CLI and cfn-lint",
            Self::Emulator => "install local AWS (ministack)",
            Self::CargoLambda => "install cargo-lambda",
            Self::Checks => "install cargo-deny and cargo-shear",
        }
    }

    fn folder(self) -> PathBuf {
        paths::tools().join(self.name())
    }

    /// The path of a program of this set.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        self.folder().join("bin").join(name)
    }

    /// A command of this set.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command
            .current_dir(paths::root())
            .env("PYTHONDONTWRITEBYTECODE", "");
        command
    }

    fn pins(self) -> PathBuf {
        paths::root()
            .join("xtask/tools")
            .join(format!("{}.txt", self.name()))
    }

    fn stamp(self) -> PathBuf {
        self.folder().join("installed.txt")
    }

    /// Whether the folder was completely made from the pins that stand there now, and can still run.
    fn is_installed(self, pins: &str) -> bool {
        fs::read_to_string(self.stamp()).is_ok_and(|stamp| stamp == pins)
            && self.program("python").exists()
    }
}

/// Installs sets that are missing, at the same time: most of it is waiting for the network.
pub(crate) fn install(procs: &Arc<Procs>, sets: &[Set]) -> Result<()> {
    let mut missing = Vec::new();
    for set in sets {
        if !set.is_installed(&paths::read(&set.pins())?) {
            missing.push(*set);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let python = python(procs)?;
    let python = &python;
    thread::scope(|scope| {
        let running: Vec<_> = missing
            .into_iter()
            .map(|set| {
                scope.spawn(move || report::step(set.title(), || install_one(procs, set, python)))
            })
            .collect();
        running.into_iter().try_for_each(|one| {
            one.join()
                .unwrap_or_else(|_| Err(Failure::new("an installation panicked")))
        })
    })
}

/// The verb `tools`.
pub(crate) fn install_all(procs: &Arc<Procs>) -> Result<()> {
    install(procs, &ALL)?;
    for set in ALL {
        println!("{}", set.folder().join("bin").display());
    }
    Ok(())
}

fn install_one(procs: &Procs, set: Set, python: &Path) -> Result<()> {
    let folder = set.folder();
    if folder.exists() {
        fs::remove_dir_all(&folder).doing(format!("removing {}", folder.display()))?;
    }
    let log = paths::made(paths::tools())?.join(format!("{}.log", set.name()));
    let mut venv = Command::new(python);
    venv.args(["-m", "venv"]).arg(&folder);
    procs.run_logged("python3 -m venv", &mut venv, &log).map_err(|failure| {
        Failure::new(format!("{failure}\nPython needs its modules venv and ensurepip; Debian and Ubuntu have them in the package python3-venv."))
    })?;
    let mut pip = Command::new(set.program("python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
    ])
    .args([
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--requirement",
    ])
    .arg(set.pins());
    procs.run_logged("pip install", &mut pip, &log)?;
    paths::write(&set.stamp(), &paths::read(&set.pins())?)
}

/// The first Python that is new enough, by the names it is installed under.
fn python(procs: &Procs) -> Result<PathBuf> {
    const NEW_ENOUGH: &str =
        "import sys; print(sys.executable if sys.version_info >= (3, 10) else '')";
    for name in [
        "python3",
        "python3.14",
        "python3.13",
        "python3.12",
        "python3.11",
        "python3.10",
    ] {
        if let Ok(path) = procs.output(name, Command::new(name).args(["-c", NEW_ENOUGH]))
            && !path.trim().is_empty()
        {
            return Ok(PathBuf::from(path.trim()));
        }
    }
    Err(Failure::new(
        "Python 3.10 or newer is needed (as `python3`, with venv and pip); the SAM CLI and local AWS are written in it",
    ))
}
