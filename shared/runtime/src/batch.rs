//! A batch of queue messages, one by one: what fails is reported alone, and in a FIFO queue what follows it in its group too.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::FutureExt as _;
use futures_util::future::join_all;

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// Delete it.
    Done,
    /// Bring it again, not before this many seconds; it is held back so long already.
    Again(u32),
}

/// A message that made the function panic comes again after the queue's visibility time-out; so do its followers, in seconds.
const AFTER_PANIC: u32 = 360;

/// A message without an id cannot be reported; Lambda must bring the whole batch again.
#[derive(Debug, thiserror::Error)]
#[error("a message of the batch has no id")]
pub struct NoMessageId;

/// Handles a batch: groups side by side, the messages of a group in their sequence. After one that must come again, the rest of its group is
/// not handled: `follow` holds it back as long, or it would stay hidden for the queue's whole visibility time-out. A panic in one
/// message is that message's failure.
pub async fn handle<F, Fut, G, Held>(
    event: SqsEvent,
    handler: F,
    follow: G,
) -> Result<SqsBatchResponse, NoMessageId>
where
    F: Fn(SqsMessage) -> Fut,
    Fut: Future<Output = Handled>,
    G: Fn(SqsMessage, u32) -> Held,
    Held: Future<Output = ()>,
{
    let mut groups: BTreeMap<String, Vec<SqsMessage>> = BTreeMap::new();
    for message in event.records {
        let id = message
            .message_id
            .clone()
            .filter(|id| !id.is_empty())
            .ok_or(NoMessageId)?;
        let group = message
            .attributes
            .get("MessageGroupId")
            .cloned()
            .unwrap_or(id);
        groups.entry(group).or_default().push(message);
    }
    let (handler, follow) = (&handler, &follow);
    let failures = join_all(groups.into_values().map(|messages| async move {
        let mut failed = Vec::new();
        let mut wait = None;
        for message in messages {
            let id = message.message_id.clone().unwrap_or_default();
            if let Some(seconds) = wait {
                follow(message, seconds).await;
                failed.push(id);
                continue;
            }
            let handled = AssertUnwindSafe(handler(message))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| {
                    tracing::error!(message.id = id, "a message made the function panic");
                    Handled::Again(AFTER_PANIC)
                });
            if let Handled::Again(seconds) = handled {
                wait = Some(seconds);
                failed.push(id);
            }
        }
        failed
    }))
    .await;
    let mut response = SqsBatchResponse::default();
    response.set_failures(failures.into_iter().flatten());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(messages: &[(&str, &str)]) -> SqsEvent {
        let records = messages
            .iter()
            .map(|(id, group)| {
                let mut message = SqsMessage::default();
                message.message_id = Some((*id).to_owned());
                message
                    .attributes
                    .insert("MessageGroupId".to_owned(), (*group).to_owned());
                message
            })
            .collect();
        let mut event = SqsEvent::default();
        event.records = records;
        event
    }

    async fn failures(messages: &[(&str, &str)], bad: &'static str) -> Vec<String> {
        let response = handle(
            event(messages),
            |m| async move {
                let id = m.message_id.unwrap();
                assert_ne!(id, "panics", "on purpose");
                if id == bad {
                    Handled::Again(5)
                } else {
                    Handled::Done
                }
            },
            |_, _| async {},
        )
        .await
        .unwrap();
        response
            .batch_item_failures
            .into_iter()
            .map(|f| f.item_identifier)
            .collect()
    }

    #[tokio::test]
    async fn a_failure_takes_the_rest_of_its_group_along_and_nobody_else() {
        let batch = [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a"), ("5", "b")];
        assert_eq!(failures(&batch, "3").await, ["3", "4"]);
        assert!(failures(&batch, "none").await.is_empty());
    }

    #[tokio::test]
    async fn what_follows_a_failure_waits_as_long_as_it() {
        let held = std::sync::Mutex::new(Vec::new());
        let batch = event(&[("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")]);
        handle(
            batch,
            |m| async move {
                if m.message_id.as_deref() == Some("1") {
                    Handled::Again(5)
                } else {
                    Handled::Done
                }
            },
            |m, seconds| {
                held.lock().unwrap().push((m.message_id.unwrap(), seconds));
                async {}
            },
        )
        .await
        .unwrap();
        assert_eq!(
            *held.lock().unwrap(),
            [("2".to_owned(), 5), ("4".to_owned(), 5)]
        );
    }

    #[tokio::test]
    async fn a_panic_is_one_message_s_failure() {
        assert_eq!(
            failures(&[("panics", "a"), ("2", "b")], "none").await,
            ["panics"]
        );
    }

    #[tokio::test]
    async fn a_message_without_an_id_fails_the_batch() {
        let mut event = event(&[("1", "a")]);
        event.records[0].message_id = None;
        assert!(
            handle(event, |_| async { Handled::Done }, |_, _| async {})
                .await
                .is_err()
        );
    }
}
