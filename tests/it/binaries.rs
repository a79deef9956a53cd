//! The functions' real binaries under a fake Lambda runtime, with nothing of AWS in reach.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use chatbill_testkit::events;
use chatbill_testkit::lambda::{LambdaError, LambdaProcess};
use serde_json::{Value, json};

/// Every function with the variables that it needs besides stage, table and tenants.
const FUNCTIONS: [(&str, &[&str]); 9] = [
    (
        "create-invoice",
        &["CHATBILL_QUEUE_URL", "CHATBILL_PUBLIC_URL_PARAMETER"],
    ),
    ("change", &["CHATBILL_QUEUE_URL"]),
    ("order", &[]),
    ("pg-webhook", &["CHATBILL_QUEUE_URL"]),
    ("receipt", &[]),
    ("reconcile", &["CHATBILL_QUEUE_URL"]),
    ("refund", &["CHATBILL_QUEUE_URL"]),
    ("report", &[]),
    (
        "send-status",
        &[
            "CHATBILL_QUEUE_URL",
            "CHATBILL_DLQ_URL",
            "CHATBILL_SEND_CONCURRENCY",
        ],
    ),
];

const EVERYBODY: [(&str, &str); 3] = [
    ("CHATBILL_STAGE", "local"),
    ("CHATBILL_TABLE", "orders"),
    ("CHATBILL_TENANTS_PATH", "/chatbill/local/tenants"),
];

/// Nothing listens on this port: whoever needs AWS to start does not start.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Where cargo puts the binaries. They are built here, as `cargo xtask` builds them: `cargo test` alone would leave out, or
/// leave stale, a binary whose package has no test program of its own.
static BINARIES: LazyLock<PathBuf> = LazyLock::new(|| {
    let this = std::env::current_exe().unwrap();
    let folder = this.parent().and_then(Path::parent).unwrap().to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--bins"]);
    for (name, _) in FUNCTIONS {
        build.args(["--package", name]);
    }
    if folder.ends_with("release") {
        build.arg("--release");
    }
    // `target/<triple>/debug` when cargo was told the target, else `target/debug`.
    let above = folder.parent().and_then(Path::file_name).unwrap();
    if above.to_string_lossy().matches('-').count() >= 2 {
        build.arg("--target").arg(above);
    }
    let built = build
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    folder
});

async fn start(name: &str) -> LambdaProcess {
    let (_, needs) = FUNCTIONS
        .iter()
        .find(|(function, _)| *function == name)
        .unwrap();
    let mut env = EVERYBODY.to_vec();
    env.extend(needs.iter().map(|need| (*need, "anything")));
    env.extend([
        ("AWS_ENDPOINT_URL", NOWHERE),
        ("AWS_REGION", "ap-south-1"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "a-secret-of-aws"),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
    ]);
    LambdaProcess::start(BINARIES.join(name), &env)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn payload(function: &str, name: &str) -> Value {
    serde_json::from_str(&events::text(function, name)).unwrap()
}

fn status(answer: &Value) -> i64 {
    answer["statusCode"]
        .as_i64()
        .unwrap_or_else(|| panic!("{answer}"))
}

/// Every line is a JSON object, and none has a secret in it.
async fn assert_logs(name: &str, function: LambdaProcess) {
    for line in function.stop().await {
        let entry: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} printed: {line}"));
        assert!(entry["level"].is_string(), "{name}: {line}");
        for secret in ["a-secret-of-aws", "cb_acme_0123456789abcdef", "9876543210"] {
            assert!(!line.contains(secret), "{name}: {line}");
        }
    }
}

#[tokio::test]
async fn a_function_starts_without_calling_anybody() {
    for (name, _) in FUNCTIONS {
        let function = start(name).await;
        assert!(function.init().as_millis() > 0, "{name}");
        assert_logs(name, function).await;
    }
}

#[tokio::test]
async fn all_variables_that_are_missing_are_named_in_one_error() {
    for (name, needs) in FUNCTIONS {
        let env = [("AWS_REGION", "ap-south-1"), ("AWS_ENDPOINT_URL", NOWHERE)];
        let error = LambdaProcess::start(BINARIES.join(name), &env).await;
        let Err(LambdaError::Init(why)) = error else {
            panic!("{name} started without its settings");
        };
        let all = EVERYBODY.iter().map(|(variable, _)| variable).chain(needs);
        let list: Vec<&str> = all.copied().collect();
        let lines: Vec<&str> = why
            .lines()
            .filter(|line| line.contains("CHATBILL_"))
            .collect();
        assert_eq!(lines.len(), 1, "{name}: {why}");
        let named: Vec<&str> = lines[0]
            .split(|letter: char| !letter.is_ascii_uppercase() && letter != '_')
            .filter(|word| word.starts_with("CHATBILL_"))
            .collect();
        assert_eq!(named, list, "{name}: {why}");
    }
}

#[tokio::test]
async fn who_shows_no_key_is_refused_without_asking_anybody() {
    for name in ["change", "create-invoice", "order", "refund", "report"] {
        let function = start(name).await;
        let answer = function.invoke(&payload(name, "no-key")).await.unwrap();
        assert_eq!(status(&answer), 401, "{name}");
        let kind = &answer["multiValueHeaders"]["content-type"][0];
        assert_eq!(*kind, "application/problem+json", "{name}: {answer}");
        let problem: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(problem["code"], "unauthorized", "{name}");
        assert_logs(name, function).await;
    }
}

#[tokio::test]
async fn a_webhook_for_nobody_and_a_receipt_of_nothing_are_not_found() {
    let mut hook = payload("pg-webhook", "razorpay-forged");
    hook["path"] = json!("/webhooks/razorpay/no_such_name");
    hook["requestContext"]["path"] = json!("/prod/webhooks/razorpay/no_such_name");
    let function = start("pg-webhook").await;
    let answer = function.invoke(&hook).await.unwrap();
    assert_eq!(status(&answer), 404, "{answer}");
    assert_logs("pg-webhook", function).await;

    let mut page = payload("receipt", "page");
    page["path"] = json!("/r/abc");
    page["requestContext"]["path"] = json!("/prod/r/abc");
    let function = start("receipt").await;
    let answer = function.invoke(&page).await.unwrap();
    assert_eq!(status(&answer), 404, "{answer}");
    assert!(answer["body"].as_str().unwrap().contains("<html"));
    assert_logs("receipt", function).await;
}

#[tokio::test]
async fn without_aws_a_caller_is_told_to_come_again() {
    for (name, event) in [
        ("create-invoice", "ok"),
        ("order", "get"),
        ("change", "status-shipped"),
        ("refund", "get"),
        ("report", "day"),
        ("pg-webhook", "razorpay-payment-captured"),
        ("receipt", "page"),
    ] {
        let function = start(name).await;
        let answer = function.invoke(&payload(name, event)).await.unwrap();
        assert_eq!(status(&answer), 503, "{name}: {answer}");
        let text = answer["body"].as_str().unwrap();
        assert!(
            !text.contains("127.0.0.1"),
            "{name} shows its insides: {text}"
        );
        if name != "receipt" {
            assert!(
                answer["multiValueHeaders"]["retry-after"][0].is_string(),
                "{name}"
            );
        }
        assert_logs(name, function).await;
    }
}

#[tokio::test]
async fn without_aws_no_message_is_taken_off_the_queue_and_reconcile_fails_aloud() {
    let function = start("send-status").await;
    let batch = payload("send-status", "two-orders");
    let answer = function.invoke(&batch).await.unwrap();
    let sent = batch["Records"].as_array().unwrap().len();
    let failed = answer["batchItemFailures"].as_array().unwrap();
    assert_eq!(failed.len(), sent, "{answer}");
    assert_logs("send-status", function).await;

    let function = start("reconcile").await;
    let failure = function.invoke(&payload("reconcile", "schedule")).await;
    assert!(
        matches!(failure, Err(LambdaError::Function { .. })),
        "{failure:?}"
    );
    assert_logs("reconcile", function).await;
}
