//! Local AWS, and the AWS CLI pointed at it.
//!
//! Everything below goes through the AWS CLI, so that each call reads as it would in production.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{Context as _, Failure, Result};
use crate::paths;
use crate::pos::Http;
use crate::procs::{Procs, Service};
use crate::tools::Set;

/// The region that Indian tenants deploy to.
pub(crate) const REGION: &str = "ap-south-1";

/// The root credentials of the emulator, which every tool and test signs with.
pub(crate) const ACCESS_KEY_ID: &str = "test";
pub(crate) const SECRET_ACCESS_KEY: &str = "test";

const START: Duration = Duration::from_secs(60);

/// A running emulator.
#[derive(Debug)]
pub(crate) struct Aws {
    procs: Arc<Procs>,
    service: Service,
    endpoint: String,
    folder: PathBuf,
}

/// The port that was asked for, or one that is free now.
pub(crate) fn port(wanted: Option<u16>) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", wanted.unwrap_or(0))).doing(match wanted {
        Some(port) => format!("port {port} is not free"),
        None => "looking for a free port".to_owned(),
    })?;
    Ok(listener
        .local_addr()
        .doing("looking for a free port")?
        .port())
}

impl Aws {
    /// Starts the emulator; it answers once [`Aws::ready`] returned.
    pub(crate) fn start(
        procs: &Arc<Procs>,
        folder: &Path,
        wanted_port: Option<u16>,
    ) -> Result<Self> {
        let port = port(wanted_port)?;
        let endpoint = format!("http://127.0.0.1:{port}");
        let temporary = paths::made(folder.join("tmp"))?;
        let home = paths::made(folder.join("home"))?;
        // The SDKs warn about a file that is named and missing.
        paths::write(&home.join("credentials"), "")?;
        // Version 1 of the CLI would fetch a value that looks like a URL.
        paths::write(
            &home.join("config"),
            "[default]\ncli_follow_urlparam = false\n",
        )?;
        let logs = paths::made(folder.join("logs"))?;
        let mut command = Set::Emulator.command("python");
        // The functions inherit this environment, so nothing of the developer's may be in it.
        command
            .args(["-m", "ministack"])
            .current_dir(folder)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home)
            .env("TMPDIR", temporary)
            .env("LANG", "C.UTF-8")
            // The emulator does not tell functions the log format of their LoggingConfig.
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("PYTHONUNBUFFERED", "1")
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("MINISTACK_REGION", REGION)
            // Requests must be signed, and a function may do only what its role in template.yaml allows.
            .env("AUTH", "true")
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        let service = procs.service("local AWS", &mut command, &logs.join("aws.log"))?;
        Ok(Self {
            procs: Arc::clone(procs),
            service,
            endpoint,
            folder: folder.to_path_buf(),
        })
    }

    /// Waits until the emulator answers.
    pub(crate) fn ready(&self) -> Result<()> {
        let health = format!("{}/_ministack/health", self.endpoint);
        let http = Http::new(Duration::from_secs(2));
        let start = Instant::now();
        while http.get(&health, &[]).is_err() {
            self.procs.check(&self.service)?;
            if start.elapsed() > START {
                return Err(Failure::new(format!(
                    "local AWS does not answer; see {}",
                    self.service.log().display()
                )));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.procs.check(&self.service)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What points an AWS client at the emulator.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ]
    }

    /// Points a command at the emulator and away from the developer's own AWS account.
    pub(crate) fn aim<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for name in [
            "AWS_PROFILE",
            "AWS_DEFAULT_PROFILE",
            "AWS_SESSION_TOKEN",
            "CARGO_TARGET_DIR",
        ] {
            command.env_remove(name);
        }
        let nowhere = self.folder.join("home");
        command
            .envs(self.environment())
            .env("AWS_CONFIG_FILE", nowhere.join("config"))
            .env("AWS_SHARED_CREDENTIALS_FILE", nowhere.join("credentials"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "")
            .env("SAM_CLI_TELEMETRY", "0")
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost")
    }

    /// One call of the AWS CLI; no output is `null`.
    pub(crate) fn call(&self, args: &[&str]) -> Result<Value> {
        let mut command = Set::Aws.command("aws");
        command.args(args).args(["--output", "json"]);
        let name = format!(
            "aws {}",
            args.iter().take(2).copied().collect::<Vec<_>>().join(" ")
        );
        let text = self.procs.output(&name, self.aim(&mut command))?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).doing(name)
    }

    /// A value handed over as a file, so that secrets are in no process list.
    pub(crate) fn file_argument(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder.join("tmp").join(name);
        paths::write(&path, text)?;
        Ok(format!("file://{}", path.display()))
    }
}
