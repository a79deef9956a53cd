//! How this project reaches AWS: credentials and region as Lambda gives them, its own time-outs, retries and trust roots.
//!
//! The SDK's own loader (`aws-config`) is left out on purpose. A function gets its credentials in environment variables and
//! never looks for a profile, a container or an instance; leaving those ways out saves code in every binary. The SDK's default HTTP
//! client would read and parse every root of the system's bundle when it is built, which was most of a function's cold start;
//! AWS's endpoints are all signed below five roots of its own.

use std::time::Duration;

pub use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::SdkConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One try of one operation. DynamoDB answers in milliseconds; a try that takes longer has met a broken connection, for
/// example one that was frozen together with the function.
const ATTEMPT: Duration = Duration::from_secs(2);
/// All tries of one operation together. What the functions keep free for writing down what a vendor did is longer than this.
pub const LONGEST_OPERATION: Duration = Duration::from_secs(5);
/// A first try and two more.
const TRIES: u32 = 3;

/// The roots of Amazon Trust Services ("Amazon Trust Services repository", root CAs); every AWS endpoint is signed below them.
const AMAZON_ROOTS: [&str; 5] = [
    "Amazon Root CA 1",
    "Amazon Root CA 2",
    "Amazon Root CA 3",
    "Amazon Root CA 4",
    "Starfield Services Root Certificate Authority - G2",
];

/// What Lambda sets in every environment is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variables are missing: {}", .0.join(", "))]
pub struct MissingEnvironment(pub Vec<&'static str>);

/// The configuration every adapter is built from: they share the connections. Reads `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and `AWS_ENDPOINT_URL`, as Lambda sets them (the last one only a local AWS). They stay the
/// same for the life of a function's environment.
pub fn sdk_config() -> Result<SdkConfig, MissingEnvironment> {
    #[expect(
        clippy::disallowed_methods,
        reason = "AWS's own variables, which only this crate needs"
    )]
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut missing = Vec::new();
    let mut needed = |name: &'static str| {
        variable(name).unwrap_or_else(|| {
            missing.push(name);
            String::new()
        })
    };
    let (region, id, secret) = (
        needed("AWS_REGION"),
        needed("AWS_ACCESS_KEY_ID"),
        needed("AWS_SECRET_ACCESS_KEY"),
    );
    if !missing.is_empty() {
        return Err(MissingEnvironment(missing));
    }
    let credentials = Credentials::new(
        id,
        secret,
        variable("AWS_SESSION_TOKEN"),
        None,
        "environment",
    );
    Ok(configured(
        region,
        credentials,
        variable("AWS_ENDPOINT_URL"),
    ))
}

/// The version of the SDK's defaults this code was written for. Named, so that an update of the SDK alone changes nothing.
#[must_use]
pub fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// This project's configuration for a region, credentials and, for a local AWS, an endpoint.
#[must_use]
pub fn configured(region: String, credentials: Credentials, endpoint: Option<String>) -> SdkConfig {
    let mut config = SdkConfig::builder()
        .behavior_version(behavior())
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(LONGEST_OPERATION)
                .build(),
        );
    // Without a context the client would fall back to the system's roots, which is slower and as safe.
    if let Ok(context) = TlsContext::builder()
        .with_trust_store(amazon_roots())
        .build()
    {
        let client = Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context)
            .build_https();
        config = config.http_client(client);
    }
    config.set_endpoint_url(endpoint);
    config.build()
}

fn amazon_roots() -> TrustStore {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter(|der| {
            AMAZON_ROOTS
                .iter()
                .any(|name| contains(der, name.as_bytes()))
        })
        .fold(TrustStore::empty(), |store, der| {
            let pem = format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                STANDARD.encode(der.as_ref())
            );
            store.with_pem_certificate(pem)
        })
}

/// A certificate's names stand in it as plain text.
fn contains(der: &[u8], name: &[u8]) -> bool {
    der.windows(name.len()).any(|window| window == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_root_of_amazon_is_found_once() {
        for name in AMAZON_ROOTS {
            let found = webpki_root_certs::TLS_SERVER_ROOT_CERTS
                .iter()
                .filter(|der| contains(der, name.as_bytes()));
            assert_eq!(found.count(), 1, "{name}");
        }
        assert!(
            TlsContext::builder()
                .with_trust_store(amazon_roots())
                .build()
                .is_ok()
        );
    }
}
