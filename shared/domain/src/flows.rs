//! The use cases. Each is generic over the ports it needs, so its signature says what it touches, and each names its round trips.

pub mod apply_webhook;
pub mod change_order;
pub mod create_invoice;
pub mod deliver;
pub mod read_order;
pub mod reconcile;
pub mod refund;
pub mod report;

use crate::connector::Gateway;
use crate::event::{Once, Recorded};
use crate::ids::OrderKey;
use crate::message::{MessageKey, Remedy};
use crate::order::{Message, Order};
use crate::payment::LookupRequest;
use crate::ports::{Append, Appended, DeliverTask, Due, OrderStore, Queue, QueueError, StoreError};
use crate::time::Millis;

/// The task that sends `message`. Its attempt number makes a re-queued message a new one to the queue's duplicate check.
#[must_use]
pub fn task(key: &OrderKey, message: &Message) -> DeliverTask {
    DeliverTask {
        v: 1,
        tenant_id: key.tenant.clone(),
        reference_id: key.reference.clone(),
        message: message.key.clone(),
        attempt: message.attempts,
    }
}

/// Queues every message the order owes and nobody has taken up, in their sequence. Returns how many.
pub(crate) async fn queue_owed<Q: Queue>(queue: &Q, order: &Order) -> Result<usize, QueueError> {
    let mut queued: usize = 0;
    for message in order.to_queue() {
        queue.send(&task(&order.key, message)).await?;
        queued = queued.saturating_add(1);
    }
    Ok(queued)
}

/// Records one event and sets when the order is due according to what is then outstanding.
pub(crate) async fn record<S: OrderStore>(
    store: &S,
    order: &Order,
    once: Once,
    recorded: Recorded,
) -> Result<Order, StoreError> {
    let now = recorded.at;
    let due = order
        .with(recorded.clone())
        .next_check(now)
        .map_or(Due::Never, Due::At);
    let append = Append {
        once: Some(once),
        events: vec![recorded],
        expect: Some(order.events.len()),
        at_most: None,
        due,
    };
    match store.append(&order.key, &append).await? {
        Appended::Done(order) | Appended::Duplicate(order) => Ok(order),
        Appended::Stale(current) => {
            // Somebody wrote while we talked to the provider, typically its own webhook. What we know is still true; only
            // when the order is due must be worked out from what is there now, so it is looked at soon.
            let append = Append {
                expect: None,
                due: Due::At(now.plus_seconds(120)),
                ..append
            };
            match store.append(&current.key, &append).await? {
                Appended::Done(order) | Appended::Duplicate(order) | Appended::Stale(order) => {
                    Ok(order)
                }
                Appended::Missing | Appended::Alias(_) => Err(vanished(order)),
            }
        }
        Appended::Missing | Appended::Alias(_) => Err(vanished(order)),
    }
}

fn vanished(order: &Order) -> StoreError {
    StoreError::Corrupt(format!("{} vanished", order.key))
}

/// How the gateway knows this order's payment.
#[must_use]
pub fn lookup_request(order: &Order, gateway: &dyn Gateway, now: Millis) -> LookupRequest {
    LookupRequest {
        reference: order.key.reference.clone(),
        gateway_id: order.started.as_ref().map(|s| s.id.clone()),
        order_id: gateway.order_id(&order.key.reference).to_string(),
        mode: order.terms().mode,
        amount: order.bill().total,
        created_at: order.contents.created_at,
        now,
    }
}

/// One line for each hold the order's last event brought up; an alarm watches for it.
pub(crate) fn report_new_holds(order: &Order) {
    let last = order.events.last().map(|e| e.at);
    for (hold, at, _) in &order.holds {
        if Some(*at) == last {
            report_hold(order, *hold);
        }
    }
}

/// One line per order that needs a person; an alarm watches for it.
pub(crate) fn report_hold(order: &Order, hold: crate::order::Hold) {
    tracing::error!(
        event = "order_held",
        order.tenant_id = %order.key.tenant,
        order.reference_id = %order.key.reference,
        order.hold = hold.as_str(),
        "the order needs a person: {}", hold.as_str()
    );
}

/// One line when a message goes on by SMS because WhatsApp has definitely failed.
pub(crate) fn report_turned(order: &Order, message: &MessageKey) {
    let failure = order.message(message).and_then(|m| m.failure.as_ref());
    tracing::warn!(
        event = "sms_fallback",
        order.tenant_id = %order.key.tenant,
        order.reference_id = %order.key.reference,
        message.key = %message,
        provider.code = failure.map_or("", |f| f.code.as_str()),
        "WhatsApp has definitely failed; the message goes out by SMS"
    );
    if failure.is_some_and(|f| f.remedy == Remedy::Alert) {
        tracing::error!(
            event = "tenant_broken",
            order.tenant_id = %order.key.tenant,
            order.reference_id = %order.key.reference,
            "the messaging account refuses every message"
        );
    }
}

/// One line per message that will not be sent; an alarm watches for it.
pub(crate) fn report_given_up(order: &Order, message: &MessageKey, code: &str) {
    tracing::error!(
        event = "message_given_up",
        order.tenant_id = %order.key.tenant,
        order.reference_id = %order.key.reference,
        message.key = %message,
        provider.code = code,
        "the message {message} will not be sent"
    );
}
