#![doc = include_str!("../README.md")]

mod cache;
mod failure;
mod item;
mod orders;
mod queue;
mod settings;
mod tenants;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};

pub use orders::DynamoOrders;
pub use queue::{SqsDeadLetters, SqsQueue, SqsVisibility};
pub use settings::SsmSettings;
pub use tenants::SsmTenants;

/// One try of one operation. DynamoDB answers in milliseconds; a try that takes longer has met a broken connection, for
/// example one that was frozen together with the function.
const ATTEMPT: Duration = Duration::from_secs(2);
/// All tries of one operation together, well inside API Gateway's 29 seconds.
const OPERATION: Duration = Duration::from_secs(5);
/// A first try and two more.
const TRIES: u32 = 3;

/// Region, credentials and endpoints as the environment gives them, with this project's time-outs and retries. Load it once
/// per process and build every adapter from it: they share credentials and the connection pool's settings.
pub async fn sdk_config() -> SdkConfig {
    configured(aws_config::defaults(behavior())).load().await
}

/// The version of the SDK's defaults this code was written for. Named, so that an update of the SDK alone changes nothing.
#[must_use]
pub fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Adds this project's time-outs and retries to a configuration that gets its region and credentials in another way.
#[must_use]
pub fn configured(loader: aws_config::ConfigLoader) -> aws_config::ConfigLoader {
    loader
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(OPERATION)
                .build(),
        )
}
