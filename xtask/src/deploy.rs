//! `sam deploy` of the unmodified template to local AWS.

use std::collections::BTreeMap;
use std::thread;

use serde_json::{Value, json};

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

/// Deploys what is in `target/lambda/`.
pub(crate) fn deploy(procs: &Procs, aws: &Aws) -> Result<Deployment> {
    report::step("sam deploy", || {
        let location = format!("LocationConstraint={REGION}");
        aws.call(&[
            "s3api",
            "create-bucket",
            "--bucket",
            CODE_BUCKET,
            "--create-bucket-configuration",
            &location,
        ])?;
        sam_deploy(procs, aws)?;
        let outputs = outputs(aws)?;
        let api = outputs
            .get("ApiId")
            .doing("the stack has no output ApiId")?;
        let api_url = format!("{}/_aws/execute-api/{api}/{STAGE}", aws.endpoint());
        complete_api(aws, api)?;
        let deployment = Deployment { api_url, outputs };
        let name = deployment.output("PublicUrlParameterName")?;
        aws.call(&[
            "ssm",
            "put-parameter",
            "--overwrite",
            "--type",
            "String",
            "--name",
            name,
            "--value",
            &deployment.api_url,
        ])?;
        Ok(deployment)
    })
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

/// Gives the API what ministack 1.5 leaves out when it imports an API description: the error responses that API Gateway
/// makes by itself, and which bodies are bytes. Both are read from the deployed template, so that nothing is said twice.
fn complete_api(aws: &Aws, api: &str) -> Result<()> {
    let processed = aws.call(&[
        "cloudformation",
        "get-template",
        "--stack-name",
        STACK,
        "--template-stage",
        "Processed",
    ])?;
    let body = processed
        .pointer("/TemplateBody/Resources/Api/Properties/Body")
        .doing("the processed template has no API")?;
    let responses = body
        .get("x-amazon-apigateway-gateway-responses")
        .and_then(Value::as_object);
    thread::scope(|scope| {
        let calls: Vec<_> = responses
            .into_iter()
            .flatten()
            .map(|(kind, response)| {
                scope.spawn(move || put_gateway_response(aws, api, kind, response))
            })
            .collect();
        calls.into_iter().try_for_each(|call| {
            call.join()
                .unwrap_or_else(|_| Err(Failure::new("a call panicked")))
        })
    })?;
    let media = body
        .get("x-amazon-apigateway-binary-media-types")
        .and_then(Value::as_array);
    let patches: Vec<Value> = media
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(binary_media_patch)
        .collect();
    let patches = Value::Array(patches).to_string();
    aws.call(&[
        "apigateway",
        "update-rest-api",
        "--rest-api-id",
        api,
        "--patch-operations",
        &patches,
    ])?;
    aws.call(&[
        "apigateway",
        "create-deployment",
        "--rest-api-id",
        api,
        "--stage-name",
        STAGE,
    ])?;
    Ok(())
}

fn binary_media_patch(kind: &str) -> Value {
    json!({"op": "add", "path": format!("/binaryMediaTypes/{}", kind.replace('/', "~1"))})
}

fn put_gateway_response(aws: &Aws, api: &str, kind: &str, response: &Value) -> Result<()> {
    let part = |name: &str| {
        response
            .get(name)
            .cloned()
            .unwrap_or_else(|| json!({}))
            .to_string()
    };
    let (parameters, templates) = (part("responseParameters"), part("responseTemplates"));
    let mut args = vec![
        "apigateway",
        "put-gateway-response",
        "--rest-api-id",
        api,
        "--response-type",
        kind,
    ];
    args.extend([
        "--response-parameters",
        &parameters,
        "--response-templates",
        &templates,
    ]);
    let status = response.get("statusCode").map(|code| {
        code.as_str()
            .map_or_else(|| code.to_string(), str::to_owned)
    });
    if let Some(status) = &status {
        args.extend(["--status-code", status]);
    }
    aws.call(&args).map(|_| ())
}
