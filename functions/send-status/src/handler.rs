//! One task of the queue: read it, send its message, say whether it must come again and when.

use aws_lambda_events::event::sqs::SqsMessage;
use chatbill_domain::fault::listed;
use chatbill_domain::flows::deliver::{Deps, Verdict, deliver};
use chatbill_domain::pace::Pace;
use chatbill_domain::ports::{
    Clock, Contacts, DeadLetters, DeliverTask, HttpSend, Links, OrderStore, Random, StoreError,
    TenantError, Tenants, Visibility,
};
use chatbill_runtime::batch::Handled;

/// What the function works with.
pub(crate) struct Ports<S, V, D, T, H, C, R> {
    pub(crate) store: S,
    pub(crate) visibility: V,
    pub(crate) dead_letters: D,
    pub(crate) tenants: T,
    pub(crate) http: H,
    pub(crate) clock: C,
    pub(crate) random: R,
    pub(crate) pace: Pace,
}

/// When the store or the tenant's document cannot be had, the task comes again in this many seconds.
const TROUBLE: u32 = 30;
/// When the tenant's document is wrong, a person has to mend it first. Seconds.
const BROKEN: u32 = 600;

/// Handles one message of the queue.
pub(crate) async fn handle<S, V, D, T, H, C, R>(
    ports: &Ports<S, V, D, T, H, C, R>,
    message: SqsMessage,
) -> Handled
where
    S: OrderStore + Contacts + Links,
    V: Visibility,
    D: DeadLetters,
    T: Tenants,
    H: HttpSend,
    C: Clock,
    R: Random,
{
    let body = message.body.as_deref().unwrap_or_default();
    let task = match serde_json::from_str::<DeliverTask>(body) {
        Ok(task) if task.v == 1 => task,
        Ok(task) => {
            return bury(
                ports,
                &message,
                &format!("version {} is not known here", task.v),
            )
            .await;
        }
        Err(error) => return bury(ports, &message, &format!("not a task: {error}")).await,
    };
    let tenant = match ports.tenants.find(&task.tenant_id).await {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return bury(ports, &message, "there is no such tenant").await,
        Err(TenantError::Unavailable(why)) => {
            tracing::error!(order.tenant_id = %task.tenant_id, "{why}");
            return again(ports, &message, TROUBLE).await;
        }
        Err(TenantError::Invalid(why)) => {
            tracing::error!(event = "tenant_broken", order.tenant_id = %task.tenant_id, "{why}");
            return again(ports, &message, BROKEN).await;
        }
    };
    let channel = match chatbill_channels::open(&tenant) {
        Ok(channel) => channel,
        Err(faults) => {
            tracing::error!(event = "tenant_broken", order.tenant_id = %task.tenant_id, "{}", listed(&faults));
            return again(ports, &message, BROKEN).await;
        }
    };
    let first = message
        .attributes
        .get("ApproximateReceiveCount")
        .is_none_or(|count| count == "1");
    let deps = Deps {
        store: &ports.store,
        http: &ports.http,
        clock: &ports.clock,
        random: &ports.random,
        pace: &ports.pace,
        draw: |text| chatbill_qr::png(text).ok(),
    };
    match deliver(&deps, &tenant, channel.as_ref(), &task, first).await {
        Ok(Verdict::Done) => Handled::Done,
        Ok(Verdict::Again(seconds)) => again(ports, &message, seconds).await,
        // No try can be written down, so none is made, now or later.
        Err(error @ StoreError::Full(_)) => {
            tracing::error!(
                event = "message_given_up",
                order.tenant_id = %task.tenant_id, order.reference_id = %task.reference_id,
                message.key = %task.message,
                "{error}"
            );
            Handled::Done
        }
        Err(error) => {
            tracing::error!(order.reference_id = %task.reference_id, "{error}");
            again(ports, &message, TROUBLE).await
        }
    }
}

/// The message comes again in `seconds`.
async fn again<S, V: Visibility, D, T, H, C, R>(
    ports: &Ports<S, V, D, T, H, C, R>,
    message: &SqsMessage,
    seconds: u32,
) -> Handled {
    hold_back(ports, message.clone(), seconds).await;
    Handled::Again(seconds)
}

/// Tells the queue to keep a message for some seconds. If it cannot be told, the message comes after its visibility time-out.
pub(crate) async fn hold_back<S, V: Visibility, D, T, H, C, R>(
    ports: &Ports<S, V, D, T, H, C, R>,
    message: SqsMessage,
    seconds: u32,
) {
    if let Some(receipt) = &message.receipt_handle
        && let Err(error) = ports.visibility.postpone(receipt, seconds).await
    {
        tracing::warn!("a retry could not be planned: {error}");
    }
}

/// Nobody will ever be able to handle this message: it goes to the dead-letter queue at once, on purpose, and holds nobody up.
async fn bury<S, V: Visibility, D: DeadLetters, T, H, C, R>(
    ports: &Ports<S, V, D, T, H, C, R>,
    message: &SqsMessage,
    reason: &str,
) -> Handled {
    let id = message.message_id.as_deref().unwrap_or_default();
    let group = message
        .attributes
        .get("MessageGroupId")
        .map_or(id, String::as_str);
    let body = message.body.as_deref().unwrap_or_default();
    tracing::error!(
        event = "message_buried",
        message.id = id,
        "to the dead-letter queue: {reason}"
    );
    match ports.dead_letters.bury(body, reason, group, id).await {
        Ok(()) => Handled::Done,
        Err(error) => {
            tracing::error!("the dead-letter queue did not take it: {error}");
            again(ports, message, TROUBLE).await
        }
    }
}

#[cfg(test)]
mod tests;
