//! `sam deploy` of the unmodified template to local AWS.

use std::collections::BTreeMap;
use std::thread;

use serde_json::Value;

use crate::aws::{Aws, REGION};
use crate::build;
use crate::failure::{Context as _, Failure, Result};
use crate::paths;
use crate::procs::Procs;
use crate::report;
use crate::tools::Set;

/// The stage that functions recognise as running on one machine.
pub(crate) const STAGE: &str = "local";

const STACK: &str = "chatbill";
const CODE_BUCKET: &str = "chatbill-code";

/// What the deployed stack told about itself.
#[derive(Debug)]
pub(crate) struct Deployment {
    outputs: BTreeMap<String, String>,
    /// Where the API is reached on this machine; the output `ApiUrl` has AWS's host name.
    pub(crate) api_url: String,
}

impl Deployment {
    pub(crate) fn output(&self, name: &str) -> Result<&str> {
        self.outputs
            .get(name)
            .map(String::as_str)
            .doing(format!("the stack has no output {name}"))
    }
}

/// Makes the bucket that `sam deploy` puts the code into.
pub(crate) fn prepare(aws: &Aws) -> Result<()> {
    let location = format!("LocationConstraint={REGION}");
    aws.call(&[
        "s3api",
        "create-bucket",
        "--bucket",
        CODE_BUCKET,
        "--create-bucket-configuration",
        &location,
    ])
    .map(|_| ())
}

/// Deploys what is in `target/lambda/`.
pub(crate) fn deploy(procs: &Procs, aws: &Aws) -> Result<Deployment> {
    report::step("sam deploy", || sam_deploy(procs, aws))?;
    report::step("point receipts at this machine", || {
        let outputs = outputs(aws)?;
        let api = outputs
            .get("ApiId")
            .doing("the stack has no output ApiId")?;
        let api_url = format!("{}/_aws/execute-api/{api}/{STAGE}", aws.endpoint());
        thread::scope(|scope| {
            let completed = scope.spawn(|| complete_api(procs, aws, api));
            let public = put_public_url(aws, &outputs, &api_url);
            completed
                .join()
                .unwrap_or_else(|_| Err(Failure::new("completing the API panicked")))
                .and(public)
        })?;
        Ok(Deployment { api_url, outputs })
    })
}

fn put_public_url(aws: &Aws, outputs: &BTreeMap<String, String>, url: &str) -> Result<()> {
    let name = outputs
        .get("PublicUrlParameterName")
        .doing("the stack has no output PublicUrlParameterName")?;
    aws.call(&[
        "ssm",
        "put-parameter",
        "--overwrite",
        "--type",
        "String",
        "--name",
        name,
        "--value",
        url,
    ])
    .map(|_| ())
}

fn sam_deploy(procs: &Procs, aws: &Aws) -> Result<()> {
    let log = paths::made(paths::local(None).join("logs"))?.join("sam-deploy.log");
    let architecture = format!("Architecture={}", build::architecture()?);
    let stage = format!("Stage={STAGE}");
    let mut sam = Set::Aws.command("sam");
    sam.args([
        "deploy",
        "--template-file",
        "template.yaml",
        "--stack-name",
        STACK,
        "--s3-bucket",
        CODE_BUCKET,
    ])
    .args([
        "--region",
        REGION,
        "--capabilities",
        "CAPABILITY_IAM",
        "--no-confirm-changeset",
        "--no-progressbar",
    ])
    // A stage of its own, not one of samconfig.toml's: those name production's settings.
    .args([
        "--config-file",
        "xtask/samconfig.local.toml",
        "--parameter-overrides",
        &stage,
        &architecture,
        // Tests are in more of a hurry than tills.
        "KeyRateLimit=50",
        "KeyBurstLimit=100",
        "ApiRateLimit=2000",
        "ApiBurstLimit=2000",
    ]);
    procs.run_logged("sam deploy", aws.aim(&mut sam), &log)
}

fn outputs(aws: &Aws) -> Result<BTreeMap<String, String>> {
    let described = aws.call(&["cloudformation", "describe-stacks", "--stack-name", STACK])?;
    let outputs = described
        .pointer("/Stacks/0/Outputs")
        .and_then(Value::as_array)
        .doing("the stack has no outputs")?;
    let text =
        |output: &Value, key: &str| output.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(outputs
        .iter()
        .filter_map(|output| Some((text(output, "OutputKey")?, text(output, "OutputValue")?)))
        .collect())
}

/// Makes up for what the emulator leaves out of the API; `complete_api.py` says what.
fn complete_api(procs: &Procs, aws: &Aws, api: &str) -> Result<()> {
    let mut python = Set::Aws.command("python");
    python.args(["xtask/src/complete_api.py", STACK, "Api", api, STAGE]);
    procs
        .output("complete_api.py", aws.aim(&mut python))
        .map(|_| ())
}
