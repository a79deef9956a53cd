//! The sandbox (`tests/sandbox`), which plays every vendor, and its controls.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::aws;
use crate::failure::{Failure, Result};
use crate::paths;
use crate::pos::Http;
use crate::procs::{Procs, Service};

const START: Duration = Duration::from_secs(20);

/// A running sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    procs: Arc<Procs>,
    service: Service,
    http: Http,
    pub(crate) url: String,
}

impl Sandbox {
    pub(crate) fn start(
        procs: &Arc<Procs>,
        program: &Path,
        folder: &Path,
        wanted_port: Option<u16>,
    ) -> Result<Self> {
        let port = aws::port(wanted_port)?.to_string();
        let log = paths::made(folder.join("logs"))?.join("sandbox.log");
        let service = procs.service(
            "the sandbox",
            Command::new(program).args(["--port", &port]),
            &log,
        )?;
        let start = Instant::now();
        let url = loop {
            if let Some(url) = announced(&paths::read(&log)?) {
                break url;
            }
            procs.check(&service)?;
            if start.elapsed() > START {
                return Err(Failure::new(format!(
                    "the sandbox does not say where it is; see {}",
                    log.display()
                )));
            }
            thread::sleep(Duration::from_millis(50));
        };
        Ok(Self {
            procs: Arc::clone(procs),
            service,
            http: Http::new(Duration::from_secs(10)),
            url,
        })
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.procs.check(&self.service)
    }

    /// Tells the sandbox to do something.
    pub(crate) fn control(&self, path: &str, body: &Value) -> Result<Value> {
        let reply = self
            .http
            .post(&format!("{}/_control/{path}", self.url), &[], body)?;
        reply.json(&format!("the sandbox's {path}"), &[200, 201, 202])
    }

    /// Asks the sandbox what it has seen.
    pub(crate) fn seen(&self, path: &str) -> Result<Value> {
        let reply = self
            .http
            .get(&format!("{}/_control/{path}", self.url), &[])?;
        reply.json(&format!("the sandbox's {path}"), &[200])
    }
}

/// The line `{"sandbox_url": ...}` in what the sandbox printed.
fn announced(log: &str) -> Option<String> {
    let values = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values
        .filter_map(|value| {
            Some(
                value
                    .get("sandbox_url")?
                    .as_str()?
                    .trim_end_matches('/')
                    .to_owned(),
            )
        })
        .next()
}
