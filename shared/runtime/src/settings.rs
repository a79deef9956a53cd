//! The only reader of environment variables. Everything a function needs is read once at start; all that is missing is named at once.

/// The stage, table, queue and parameter names `template.yaml` gives to a function. Which of them are there depends on the function.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `CHATBILL_STAGE`, e.g. `prod`. In `local`, plain http to this machine is allowed.
    pub stage: String,
    /// `CHATBILL_TABLE`
    pub table: String,
    /// `CHATBILL_TENANTS_PATH`, e.g. `/chatbill/prod/tenants`
    pub tenants_path: String,
    /// `CHATBILL_QUEUE_URL`; empty when not asked for.
    pub queue_url: String,
    /// `CHATBILL_DLQ_URL`; empty when not asked for.
    pub dlq_url: String,
    /// `CHATBILL_PUBLIC_URL_PARAMETER`; empty when not asked for.
    pub public_url_parameter: String,
}

/// What a function needs beyond stage, table and tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The queue of `send-status`.
    Queue,
    /// Its dead-letter queue.
    DeadLetters,
    /// The name of the parameter with the public address.
    PublicUrl,
}

/// Variables that are missing or empty.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variables are missing: {}", .0.join(", "))]
pub struct Missing(pub Vec<&'static str>);

impl Settings {
    /// Reads the environment of this process.
    pub fn read(needs: &[Need]) -> Result<Self, Missing> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        Self::from(needs, |name| std::env::var(name).ok())
    }

    fn from(needs: &[Need], variable: impl Fn(&str) -> Option<String>) -> Result<Self, Missing> {
        let mut missing = Vec::new();
        let mut get = |name: &'static str, needed: bool| {
            let value = variable(name).filter(|v| !v.trim().is_empty());
            if needed && value.is_none() {
                missing.push(name);
            }
            value.unwrap_or_default()
        };
        let settings = Self {
            stage: get("CHATBILL_STAGE", true),
            table: get("CHATBILL_TABLE", true),
            tenants_path: get("CHATBILL_TENANTS_PATH", true),
            queue_url: get("CHATBILL_QUEUE_URL", needs.contains(&Need::Queue)),
            dlq_url: get("CHATBILL_DLQ_URL", needs.contains(&Need::DeadLetters)),
            public_url_parameter: get(
                "CHATBILL_PUBLIC_URL_PARAMETER",
                needs.contains(&Need::PublicUrl),
            ),
        };
        if missing.is_empty() {
            Ok(settings)
        } else {
            Err(Missing(missing))
        }
    }

    /// This is a laptop, not a deployment.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.stage == "local"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_missing_is_named_at_once() {
        let error = Settings::from(&[Need::Queue], |name| {
            (name == "CHATBILL_STAGE").then(|| "prod".to_owned())
        });
        assert_eq!(
            error.unwrap_err(),
            Missing(vec![
                "CHATBILL_TABLE",
                "CHATBILL_TENANTS_PATH",
                "CHATBILL_QUEUE_URL"
            ])
        );
    }
}
