//! Every process that a verb starts, and the promise that none of them outlives it.
//!
//! Each child is the leader of its own process group, and a small shell process holds the list of groups. It reads from a
//! pipe; when the pipe closes, because this program ended in whatever way, it ends the groups. So a Ctrl-C, a panic and a
//! SIGKILL all come to the same end, without unsafe code.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Context as _, Failure, Result};

const POLL: Duration = Duration::from_millis(20);

/// The children of this program.
pub(crate) struct Procs {
    watchdog: Mutex<Option<Watchdog>>,
    services: Mutex<Vec<Child>>,
    stopping: AtomicBool,
}

struct Watchdog {
    process: Child,
    groups: ChildStdin,
}

/// Ends all children when the verb returns.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a Procs);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A child that runs beside the verb.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    pid: u32,
    log: PathBuf,
}

impl Procs {
    pub(crate) fn start() -> Result<Arc<Self>> {
        let mut process = Command::new("sh")
            .args(["-c", include_str!("watchdog.sh"), "chatbill-watchdog"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .doing("starting sh")?;
        let groups = process.stdin.take().doing("the pipe to sh")?;
        let procs = Arc::new(Self {
            watchdog: Mutex::new(Some(Watchdog { process, groups })),
            services: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).doing("listening for signals")?;
        let stop = Arc::clone(&procs);
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("\nstopping");
                stop.stop();
                std::process::exit(signal.saturating_add(128));
            }
        });
        Ok(procs)
    }

    /// Runs a command to its end with its output on the terminal.
    pub(crate) fn run(&self, name: &str, command: &mut Command) -> Result<()> {
        let status = self.status(name, command)?;
        ended(name, status, "")
    }

    /// Runs a command to its end and gives its exit status.
    pub(crate) fn status(&self, name: &str, command: &mut Command) -> Result<ExitStatus> {
        let child = self.spawn(name, command.stdin(Stdio::null()))?;
        self.wait(name, child)
    }

    /// Runs a command to its end; its output goes to a file, of which the end is shown if it fails.
    pub(crate) fn run_logged(&self, name: &str, command: &mut Command, log: &Path) -> Result<()> {
        let (out, err) = log_files(log)?;
        let child = self.spawn(name, command.stdin(Stdio::null()).stdout(out).stderr(err))?;
        let status = self.wait(name, child)?;
        ended(name, status, &tail(log))
    }

    /// Runs a command to its end and gives what it printed.
    pub(crate) fn output(&self, name: &str, command: &mut Command) -> Result<String> {
        let child = self.spawn(
            name,
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )?;
        let group = child.id();
        let output = child.wait_with_output().doing(name)?;
        self.tell("-", group)?;
        self.park_if_stopping();
        ended(
            name,
            output.status,
            &String::from_utf8_lossy(&output.stderr),
        )?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command to its end and hands over its standard output line by line, as it comes.
    pub(crate) fn run_lines(
        &self,
        name: &str,
        command: &mut Command,
        mut line: impl FnMut(&str),
    ) -> Result<()> {
        let mut child = self.spawn(name, command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let out = child.stdout.take().doing(name)?;
        for text in BufReader::new(out).lines() {
            line(&text.doing(name)?);
        }
        let status = self.wait(name, child)?;
        ended(name, status, "")
    }

    /// Starts a child that stays until the verb ends; its output goes to a file.
    pub(crate) fn service(&self, name: &str, command: &mut Command, log: &Path) -> Result<Service> {
        let (out, err) = log_files(log)?;
        let child = self.spawn(name, command.stdin(Stdio::null()).stdout(out).stderr(err))?;
        let service = Service {
            name: name.to_owned(),
            pid: child.id(),
            log: log.to_path_buf(),
        };
        lock(&self.services).push(child);
        Ok(service)
    }

    /// Fails, with the end of its log, if the service is not running any more.
    pub(crate) fn check(&self, service: &Service) -> Result<()> {
        self.park_if_stopping();
        let mut services = lock(&self.services);
        let child = services
            .iter_mut()
            .find(|child| child.id() == service.pid)
            .doing("an unknown service")?;
        match child.try_wait().doing(&service.name)? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!(
                "{} ended ({status})\n{}",
                service.name,
                tail(&service.log)
            ))),
        }
    }

    /// Removes a file when the verb ends, however it ends.
    pub(crate) fn remove_at_end(&self, file: &Path) -> Result<()> {
        self.tell("x", file.display())
    }

    /// Ends every child and waits until they are gone.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let Some(Watchdog {
            mut process,
            groups,
        }) = lock(&self.watchdog).take()
        else {
            return;
        };
        drop(groups);
        // Ended children stay visible to the watchdog until they are waited for.
        loop {
            for child in lock(&self.services).iter_mut() {
                let _ended = child.try_wait();
            }
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL);
        }
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<Child> {
        let child = command
            .process_group(0)
            .spawn()
            .doing(format!("starting {name}"))?;
        self.tell("+", child.id())?;
        Ok(child)
    }

    fn wait(&self, name: &str, mut child: Child) -> Result<ExitStatus> {
        let group = child.id();
        let status = child.wait().doing(name)?;
        self.tell("-", group)?;
        self.park_if_stopping();
        Ok(status)
    }

    fn tell(&self, change: &str, what: impl std::fmt::Display) -> Result<()> {
        match lock(&self.watchdog).as_mut() {
            Some(watchdog) => {
                writeln!(watchdog.groups, "{change} {what}").doing("telling the watchdog")
            }
            None => Ok(()),
        }
    }

    /// After a signal the other thread ends the program; this one must not report children it lost to that as failures.
    fn park_if_stopping(&self) {
        while self.stopping.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

impl std::fmt::Debug for Procs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Procs")
    }
}

impl Service {
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_files(log: &Path) -> Result<(File, File)> {
    let out = File::create(log).doing(format!("making {}", log.display()))?;
    let err = out.try_clone().doing(format!("making {}", log.display()))?;
    Ok((out, err))
}

fn ended(name: &str, status: ExitStatus, said: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let said = said.trim_end();
    Err(Failure::new(if said.is_empty() {
        format!("{name} failed ({status})")
    } else {
        format!("{name} failed ({status})\n{said}")
    }))
}

/// The last lines of a log, for a failure's text.
fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let skip = text.lines().count().saturating_sub(LINES);
    text.lines().skip(skip).collect::<Vec<_>>().join("\n")
}
