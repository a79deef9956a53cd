//! Tasks in SQS.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageAttributeValue;
use aws_types::SdkConfig;
use chatbill_domain::delivery::LONGEST;
use chatbill_domain::ports::{DeadLetters, DeliverTask, Queue, QueueError, Visibility};

use crate::failure::reason;

/// The FIFO queue `send-status` works off. Group and deduplication ids are made of tenant, reference and message names only:
/// letters, digits and punctuation, shorter than the 128 characters SQS allows.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
}

impl SqsQueue {
    /// The queue at `url`.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self {
            client: Client::new(config),
            url: url.into(),
        }
    }
}

impl Queue for SqsQueue {
    async fn send(&self, task: &DeliverTask) -> Result<(), QueueError> {
        let body = serde_json::to_string(task)
            .map_err(|_| QueueError("task cannot be written as JSON".to_owned()))?;
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_group_id(task.group())
            .message_deduplication_id(task.deduplication())
            .message_body(body)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| QueueError(reason(&error)))
    }
}

/// Holds back messages received from the queue at a URL.
#[derive(Debug, Clone)]
pub struct SqsVisibility {
    client: Client,
    url: String,
}

impl SqsVisibility {
    /// Messages of the queue at `url`.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self {
            client: Client::new(config),
            url: url.into(),
        }
    }
}

impl Visibility for SqsVisibility {
    async fn postpone(&self, receipt: &str, seconds: u32) -> Result<(), QueueError> {
        // SQS counts its 12 hours from when the message was received, so a little of them is gone already. The handler that gets
        // it early holds it back for the rest.
        let seconds = i32::try_from(seconds.min(LONGEST.saturating_sub(600))).unwrap_or(i32::MAX);
        self.client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt)
            .visibility_timeout(seconds)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| QueueError(reason(&error)))
    }
}

/// The dead letter queue, also FIFO.
#[derive(Debug, Clone)]
pub struct SqsDeadLetters {
    client: Client,
    url: String,
}

impl SqsDeadLetters {
    /// The dead letter queue at `url`.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self {
            client: Client::new(config),
            url: url.into(),
        }
    }
}

impl DeadLetters for SqsDeadLetters {
    async fn bury(&self, body: &str, why: &str, group: &str, id: &str) -> Result<(), QueueError> {
        let attribute = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(attribute_text(why))
            .build()
            .map_err(|_| QueueError("request could not be built".to_owned()))?;
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_group_id(group)
            .message_deduplication_id(id)
            .message_attributes("reason", attribute)
            .message_body(body)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| QueueError(reason(&error)))
    }
}

/// A message attribute is neither empty nor contains control characters, and this one is short.
fn attribute_text(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(256).collect();
    if clean.is_empty() {
        "unknown".to_owned()
    } else {
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_a_message_attribute() {
        assert_eq!(attribute_text("bad\n\0json"), "badjson");
        assert_eq!(attribute_text("\n"), "unknown");
        assert_eq!(attribute_text(&"ü".repeat(1000)).chars().count(), 256);
    }
}
