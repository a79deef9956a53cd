//! Where things are. Everything that is made is below `target/`, so that `cargo clean` removes it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context as _, Result};

/// The workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo's folder; a `CARGO_TARGET_DIR` is ignored by every verb because `template.yaml` names `target/lambda/`.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The folder of a running stack: its description, logs and temporary files.
pub(crate) fn local(name: Option<&str>) -> PathBuf {
    let local = target().join("local");
    name.map_or_else(|| local.clone(), |name| local.join(name))
}

/// Makes a folder with its parents and gives it back.
pub(crate) fn made(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).doing(format!("making {}", path.display()))?;
    Ok(path)
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).doing(format!("writing {}", path.display()))
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).doing(format!("reading {}", path.display()))
}

/// The folders of `functions/`, which are the names of packages, binaries and, in Pascal case, of resources.
pub(crate) fn functions() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("functions")).doing("reading functions/")? {
        let entry = entry.doing("reading functions/")?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
