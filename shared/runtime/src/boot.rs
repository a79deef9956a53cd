//! Start-up: what all mains have in common, so that each fits on a screen and shows what is special about it.

use std::future::Future;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use lambda_http::{Body, Request, Response};
use lambda_runtime::{Error, LambdaEvent, service_fn};

use crate::api::{ApiError, request_id};
use crate::budget::{self, TooLong};

/// Switches logging on: JSON lines when the template says so, level by `AWS_LAMBDA_LOG_LEVEL`.
pub fn init() {
    lambda_runtime::tracing::init_default_subscriber();
}

/// Runs an HTTP function within [`budget::REQUEST`]. A handler's error becomes a problem document.
pub async fn run_api<F, Fut>(handler: F) -> Result<(), Error>
where
    F: Fn(Request) -> Fut,
    Fut: Future<Output = Result<Response<Body>, ApiError>> + Send,
{
    let handler = &handler;
    lambda_http::run(service_fn(|request: Request| {
        let id = request_id(&request);
        let answer = budget::REQUEST.spend(handler(request));
        async move {
            Ok::<_, Error>(
                answer
                    .await
                    .unwrap_or_else(|TooLong| Err(ApiError::outcome_unknown()))
                    .unwrap_or_else(|error| error.into_response(&id)),
            )
        }
    }))
    .await
}

/// Runs a queue function.
pub async fn run_queue<F, Fut, E>(handler: F) -> Result<(), Error>
where
    F: Fn(SqsEvent) -> Fut,
    Fut: Future<Output = Result<SqsBatchResponse, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let handler = &handler;
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| {
        let answer = handler(event.payload);
        async move { answer.await.map_err(Error::from) }
    }))
    .await
}

/// Runs a function on a schedule. `deadline` is when Lambda stops it, in milliseconds since the epoch.
pub async fn run_schedule<F, Fut, E>(handler: F) -> Result<(), Error>
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = Result<serde_json::Value, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let handler = &handler;
    lambda_runtime::run(service_fn(|event: LambdaEvent<serde_json::Value>| {
        let answer = handler(event.context.deadline);
        async move { answer.await.map_err(Error::from) }
    }))
    .await
}
