//! A whole stack on one machine: local AWS with the deployed functions, the sandbox, two tenants.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::aws::{self, Aws};
use crate::build;
use crate::deploy::{self, Deployment};
use crate::failure::{Context as _, Failure, Result};
use crate::options::Options;
use crate::paths;
use crate::procs::Procs;
use crate::report;
use crate::sandbox::Sandbox;
use crate::tenants::{self, Tenant};
use crate::tools::{self, Set};

/// A running stack.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) aws: Aws,
    pub(crate) sandbox: Sandbox,
    pub(crate) deployment: Deployment,
    pub(crate) tenants: Vec<Tenant>,
    folder: PathBuf,
    procs: Arc<Procs>,
}

impl Local {
    /// Starts everything. Stacks with different names do not touch each other's files.
    pub(crate) fn start(procs: &Arc<Procs>, options: &Options, name: Option<&str>) -> Result<Self> {
        let folder = fresh(paths::local(name))?;
        // Two things that take long and do not need each other: the compiler, and installing and starting local AWS.
        let (program, aws) = thread::scope(|scope| {
            let aws = scope.spawn(|| {
                tools::install(procs, &[Set::Emulator, Set::Aws])?;
                report::step("start local AWS", || {
                    let aws = Aws::start(procs, &folder, options.aws_port)?;
                    aws.ready()?;
                    deploy::prepare(&aws)?;
                    Ok(aws)
                })
            });
            let program = compile(procs);
            let aws = aws
                .join()
                .unwrap_or_else(|_| Err(Failure::new("starting local AWS panicked")));
            Ok::<_, Failure>((program?, aws?))
        })?;
        let sandbox = report::step("start the sandbox", || {
            Sandbox::start(procs, &program, &folder, options.sandbox_port)
        })?;
        let deployment = deploy::deploy(procs, &aws)?;
        let tenants = tenants::onboard(&aws, &sandbox, &deployment)?;
        Ok(Self {
            aws,
            sandbox,
            deployment,
            tenants,
            folder,
            procs: Arc::clone(procs),
        })
    }

    /// Fails if a part of the stack is not running any more.
    pub(crate) fn check(&self) -> Result<()> {
        self.aws.check()?;
        self.sandbox.check()
    }

    /// Describes the stack in a file, so that any client can be pointed at it, and gives the file's path.
    pub(crate) fn describe(&self, api_url: &str) -> Result<PathBuf> {
        let path = self.folder.join("stack.json");
        let tenants: Vec<Value> = self
            .tenants
            .iter()
            .map(|tenant| json!({"tenant_id": tenant.id, "api_key": tenant.api_key}))
            .collect();
        let stack = json!({
            "api_url": api_url,
            "aws_endpoint": self.aws.endpoint(),
            "aws_access_key_id": aws::ACCESS_KEY_ID,
            "aws_secret_access_key": aws::SECRET_ACCESS_KEY,
            "region": aws::REGION,
            "stage": deploy::STAGE,
            "table": self.deployment.output("TableName")?,
            "queue_url": self.deployment.output("QueueUrl")?,
            "dlq_url": self.deployment.output("DlqUrl")?,
            "usage_plan_id": self.deployment.output("UsagePlanId")?,
            "tenants_path": self.deployment.output("TenantsPath")?,
            "public_url_parameter": self.deployment.output("PublicUrlParameterName")?,
            "reconcile_function": self.deployment.output("ReconcileFunction")?,
            "sandbox_url": self.sandbox.url,
            "tenants": tenants,
        });
        let text = serde_json::to_string_pretty(&stack).doing("describing the stack")?;
        self.procs.remove_at_end(&path)?;
        paths::write(&path, &text)?;
        Ok(path)
    }

    /// Tells a person how to use the stack.
    pub(crate) fn explain(&self, api_url: &str) -> Result<()> {
        let path = self.describe(api_url)?;
        report::title("Chatbill runs on this machine");
        println!("  API           {api_url}");
        for tenant in &self.tenants {
            println!(
                "  API key       {}   (tenant {})",
                tenant.api_key, tenant.id
            );
        }
        println!("  sandbox       {}", self.sandbox.url);
        println!("  AWS           {}", self.aws.endpoint());
        println!("  all of it     {}", path.display());
        println!("  logs          {}", self.folder.join("logs").display());
        println!("\nFor the AWS CLI, any SDK and `cargo lambda`:");
        for (name, value) in self.aws.environment() {
            println!("  export {name}={value}");
        }
        println!("  export PATH={}:$PATH", Set::Aws.program("").display());
        println!("\nCtrl-C ends it.");
        Ok(())
    }

    /// Copies what the functions logged out of local AWS, which forgets it when it ends; gives the folder.
    pub(crate) fn collect_logs(&self) -> Result<PathBuf> {
        let folder = self.folder.join("logs");
        thread::scope(|scope| {
            let running: Vec<_> = paths::functions()?
                .into_iter()
                .map(|function| scope.spawn(|| self.collect_log(function)))
                .collect();
            running.into_iter().try_for_each(|one| {
                one.join()
                    .unwrap_or_else(|_| Err(Failure::new("reading logs panicked")))
            })
        })?;
        Ok(folder)
    }

    fn collect_log(&self, function: String) -> Result<()> {
        let group = format!("/chatbill/{}/{function}", deploy::STAGE);
        let events = self
            .aws
            .call(&["logs", "filter-log-events", "--log-group-name", &group])?;
        let lines = events
            .get("events")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|event| event.get("message").and_then(Value::as_str));
        let text: String = lines.flat_map(|line| [line.trim_end(), "\n"]).collect();
        paths::write(
            &self.folder.join("logs").join(format!("{function}.log")),
            &text,
        )
    }

    /// Stays until a signal ends the program or a part of the stack breaks.
    pub(crate) fn stay(&self) -> Result<()> {
        loop {
            self.check()?;
            thread::sleep(Duration::from_millis(500));
        }
    }
}

/// The verb `up`.
pub(crate) fn up(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    let local = Local::start(procs, options, None)?;
    local.explain(&local.deployment.api_url)?;
    local.stay()
}

fn compile(procs: &Arc<Procs>) -> Result<PathBuf> {
    tools::install(procs, &[Set::CargoLambda])?;
    build::functions(procs)?;
    build::sandbox(procs)
}

/// The folder without what an earlier run left in it.
fn fresh(folder: PathBuf) -> Result<PathBuf> {
    for part in ["tmp", "home", "logs", "stack.json"] {
        let path = folder.join(part);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).doing(format!("removing {}", path.display()));
        }
    }
    paths::made(folder)
}
