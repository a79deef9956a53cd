//! HTTP as a client on this machine speaks it: a POS, a customer's phone, the sandbox's controls.

use std::time::Duration;

use serde_json::Value;

use crate::failure::{Context as _, Failure, Result};

/// A client.
#[derive(Debug)]
pub(crate) struct Http(ureq::Agent);

/// What came back, whatever the status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Http {
    pub(crate) fn new(timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Self(ureq::Agent::new_with_config(config))
    }

    pub(crate) fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        let mut request = self.0.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(url, request.call())
    }

    pub(crate) fn post(&self, url: &str, headers: &[(&str, &str)], body: &Value) -> Result<Reply> {
        let mut request = self.0.post(url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(url, request.send(body.to_string()))
    }
}

fn read(
    url: &str,
    answer: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Reply> {
    let mut response = answer.doing(url)?;
    let status = response.status().as_u16();
    let bytes = response.body_mut().read_to_vec().doing(url)?;
    Ok(Reply {
        status,
        body: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

impl Reply {
    /// The body as JSON, if the status is one of those expected.
    pub(crate) fn json(&self, what: &str, expected: &[u16]) -> Result<Value> {
        if !expected.contains(&self.status) {
            return Err(Failure::new(format!(
                "{what} was answered {}: {}",
                self.status, self.body
            )));
        }
        serde_json::from_str(&self.body).doing(format!("the answer to {what}"))
    }
}
