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
        let older = match self.cache.get(&self.parameter, now) {
            Known::Value(url) => return Ok(url),
            Known::Absent => return Err(missing(&self.parameter)),
            Known::Unusable(why) => return Err(SettingsError(why)),
            Known::Ask(older) => older,
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
                older.for_an_outage().ok_or(SettingsError(why))
            }
        }
    }
}

fn missing(parameter: &str) -> SettingsError {
    SettingsError(format!("there is no parameter {parameter}"))
}

/// Names a page of a listing can hold; the service's own limit.
const PAGE: i32 = 10;
/// Pages of one listing at most.
const PAGES: usize = 200;

/// The last parts of the names directly below a path, and whether these are all. Values come undecrypted and are thrown away: a
/// listing needs no right to any key.
pub(crate) async fn names(client: &Client, path: &str) -> Result<(Vec<String>, bool), String> {
    let mut names = Vec::new();
    let mut from = None;
    for _ in 0..PAGES {
        let page = client
            .get_parameters_by_path()
            .path(path)
            .recursive(false)
            .with_decryption(false)
            .max_results(PAGE)
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| reason(&error))?;
        let below = page
            .parameters()
            .iter()
            .filter_map(|parameter| parameter.name()?.strip_prefix(path)?.strip_prefix('/'));
        names.extend(below.map(str::to_owned));
        from = page.next_token.filter(|token| !token.is_empty());
        if from.is_none() {
            return Ok((names, true));
        }
    }
    Ok((names, false))
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
