//! Settings that are only known once the stack stands, from the parameter store.

use std::sync::Arc;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::SdkError;
use aws_types::SdkConfig;
use chatbill_domain::ports::{Clock, Settings, SettingsError};

use crate::cache::{Cache, Known};
use crate::failure::reason;

/// The public URL in a parameter, cached like tenants.
#[derive(Debug)]
pub struct SsmSettings<C> {
    client: Client,
    parameter: String,
    clock: C,
    cache: Cache<Arc<str>>,
}

impl<C: Clock> SsmSettings<C> {
    /// The setting in the parameter of this name (`CHATBILL_PUBLIC_URL_PARAMETER`).
    #[must_use]
    pub fn new(config: &SdkConfig, parameter: impl Into<String>, clock: C) -> Self {
        Self {
            client: Client::new(config),
            parameter: parameter.into(),
            clock,
            cache: Cache::new(),
        }
    }
}

impl<C: Clock> Settings for SsmSettings<C> {
    async fn public_url(&self) -> Result<Arc<str>, SettingsError> {
        let now = self.clock.now();
        let stale = match self.cache.get(&self.parameter, now) {
            Known::Value(url) => return Ok(url),
            Known::Absent | Known::Flooded => return Err(missing(&self.parameter)),
            Known::Unusable(why) => return Err(SettingsError(why)),
            Known::Ask(stale) => stale,
        };
        match read(&self.client, &self.parameter).await {
            Ok(Some(url)) => {
                let url: Arc<str> = url.trim_end_matches('/').into();
                self.cache.put(&self.parameter, Arc::clone(&url), now);
                Ok(url)
            }
            Ok(None) => {
                self.cache.put_absent(&self.parameter, None, now);
                Err(missing(&self.parameter))
            }
            Err(why) => {
                self.cache.pause(&self.parameter, now);
                stale.ok_or(SettingsError(why))
            }
        }
    }
}

fn missing(parameter: &str) -> SettingsError {
    SettingsError(format!("there is no parameter {parameter}"))
}

/// One parameter's value, decrypted; `None` when there is no such parameter.
pub(crate) async fn read(client: &Client, name: &str) -> Result<Option<String>, String> {
    let answer = client
        .get_parameter()
        .name(name)
        .with_decryption(true)
        .send()
        .await;
    match answer {
        Ok(answer) => Ok(answer.parameter.and_then(|p| p.value)),
        Err(SdkError::ServiceError(context)) if context.err().is_parameter_not_found() => Ok(None),
        Err(error) => Err(reason(&error)),
    }
}
