//! The functions under `cargo lambda watch`, against the same local AWS and sandbox as `up`.
//!
//! cargo-lambda calls functions over HTTP by their name. The stack's own copies stay deployed, so the queue and the schedule
//! still have somebody to go to; what is watched is what `http://…/lambda-url/<function>/` and `cargo lambda invoke` reach.

use std::sync::Arc;

use crate::aws;
use crate::build;
use crate::failure::Result;
use crate::local::Local;
use crate::options::Options;
use crate::paths;
use crate::procs::Procs;
use crate::report;

pub(crate) fn run(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    let local = Local::start(procs, options, None)?;
    local.explain(&local.deployment.api_url)?;
    let port = aws::port(options.watch_port)?.to_string();
    report::title("Watched functions");
    for function in paths::functions()? {
        println!("  http://127.0.0.1:{port}/lambda-url/{function}/");
    }
    println!(
        "  cargo lambda invoke --invoke-port {port} create-invoice --data-file events/create-invoice/<case>.json\n"
    );
    let mut command = build::cargo_lambda();
    let host = build::host(procs)?;
    command.args([
        "watch",
        "--target",
        &host,
        "--invoke-address",
        "127.0.0.1",
        "--invoke-port",
        &port,
    ]);
    for (name, value) in [
        ("CHATBILL_STAGE", crate::deploy::STAGE),
        ("CHATBILL_TABLE", local.deployment.output("TableName")?),
        ("CHATBILL_QUEUE_URL", local.deployment.output("QueueUrl")?),
        ("CHATBILL_DLQ_URL", local.deployment.output("DlqUrl")?),
        ("CHATBILL_SEND_CONCURRENCY", "1"),
        (
            "CHATBILL_TENANTS_PATH",
            local.deployment.output("TenantsPath")?,
        ),
        (
            "CHATBILL_PUBLIC_URL_PARAMETER",
            local.deployment.output("PublicUrlParameterName")?,
        ),
    ] {
        command.env(name, value);
    }
    procs.run("cargo lambda watch", local.aws.aim(&mut command))
}
