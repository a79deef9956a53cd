//! The fake Lambda runtime, with this very test binary as the function: `the_function` is what it runs.

use std::time::Duration;

use chatbill_testkit::lambda::{LambdaError, LambdaProcess};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use tokio::process::Command;

/// Not a test: what the tests below start in another process.
#[tokio::test(flavor = "current_thread")]
#[ignore = "started by the other tests of this file"]
async fn the_function() {
    if !std::env::vars_os().any(|(name, _)| name == "AWS_LAMBDA_RUNTIME_API") {
        return;
    }
    let handler = service_fn(|event: LambdaEvent<Value>| async move {
        match event.payload["do"].as_str() {
            Some("echo") => Ok(json!({"echo": event.payload, "id": event.context.request_id})),
            Some("exit") => std::process::exit(3),
            _ => {
                eprintln!("cannot do that");
                Err("cannot do that")
            }
        }
    });
    lambda_runtime::run(handler).await.unwrap();
}

async fn start(test: &str) -> Result<LambdaProcess, LambdaError> {
    let this = std::env::current_exe().map_err(|error| LambdaError::Spawn(error.to_string()))?;
    let mut command = Command::new(this);
    command
        .env_clear()
        .args(["--exact", test, "--ignored", "--nocapture"]);
    LambdaProcess::start_command(command).await
}

#[tokio::test]
async fn a_function_is_initialised_once_and_invoked_often() {
    let function = start("the_function").await.unwrap();
    assert!(function.init() > Duration::ZERO);
    for n in 0..3 {
        let event = json!({"do": "echo", "n": n, "text": "₹"});
        assert_eq!(function.invoke(&event).await.unwrap()["echo"], event);
    }
    let (a, b) = (json!({"do": "echo", "n": 1}), json!({"do": "echo", "n": 2}));
    let (a, b) = tokio::join!(function.invoke(&a), function.invoke(&b));
    assert_ne!(a.unwrap()["id"], b.unwrap()["id"]);
    if cfg!(target_os = "linux") {
        let usage = function.usage().unwrap();
        assert!(
            usage.cpu > Duration::ZERO && usage.peak_memory > 1 << 20,
            "{usage:?}"
        );
    }
}

#[tokio::test]
async fn a_failure_is_told_and_the_function_lives_on() {
    let function = start("the_function").await.unwrap();
    match function.invoke(&json!({"do": "fail"})).await {
        Err(LambdaError::Function { message, .. }) => assert_eq!(message, "cannot do that"),
        other => panic!("{other:?}"),
    }
    assert!(function.invoke(&json!({"do": "echo"})).await.is_ok());
    assert!(
        function
            .stop()
            .await
            .iter()
            .any(|line| line == "cannot do that")
    );
}

#[tokio::test]
async fn an_end_is_noticed() {
    let function = start("the_function").await.unwrap();
    let end = function.invoke(&json!({"do": "exit"})).await;
    assert!(matches!(end, Err(LambdaError::Exited(_))), "{end:?}");
    let after = function.invoke(&json!({"do": "echo"})).await;
    assert!(matches!(after, Err(LambdaError::Exited(_))), "{after:?}");
    let never = start("there_is_no_such_test").await;
    assert!(matches!(never, Err(LambdaError::Init(_))), "{never:?}");
    let missing = LambdaProcess::start("/does/not/exist", &[]).await;
    assert!(matches!(missing, Err(LambdaError::Spawn(_))), "{missing:?}");
}
