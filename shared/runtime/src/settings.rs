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
    /// `CHATBILL_SEND_CONCURRENCY`: how many copies of `send-status` run at once at most. Not told or unreadable, it is as many as the
    /// queue can start, so that a sender goes too slow rather than too fast.
    pub send_concurrency: u32,
}

/// Lambda, "Configuring maximum concurrency for Amazon SQS event sources": at most 1000.
const MOST_COPIES: u32 = 1000;

/// What a function needs beyond stage, table and tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The queue of `send-status`.
    Queue,
    /// Its dead-letter queue.
    DeadLetters,
    /// The name of the parameter with the public address.
    PublicUrl,
    /// How many copies of `send-status` share a sender's rate.
    SendConcurrency,
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
            send_concurrency: get(
                "CHATBILL_SEND_CONCURRENCY",
                needs.contains(&Need::SendConcurrency),
            )
            .parse()
            .unwrap_or(MOST_COPIES),
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
