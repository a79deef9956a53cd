//! Sends one message an order owes. Called for each task of the queue, as often as the queue likes.
//!
//! Round trips of the first try: store (claims the try and reads the order), provider, store (records the outcome). A later
//! try reads first. A try is written down before the provider is called, so a crash leaves a trace and is treated like a lost answer.

use crate::connector::{Channel, SendStep};
use crate::delivery;
use crate::event::{Event, Once, Recorded};
use crate::flows::report_given_up;
use crate::http::{Answer, MAX_CALLS};
use crate::ids::ReferenceId;
use crate::message::{
    Checkout, Content, Form, MessageKey, Outgoing, Remedy, SendFailure, Tag, Template,
};
use crate::order::{Message, MessageStatus, Order, PaymentStatus};
use crate::payment::PaymentMode;
use crate::ports::{
    Append, Appended, Clock, DeliverTask, Due, HttpSend, OrderStore, Random, StoreError,
};
use crate::tenant::Tenant;
use crate::time::Millis;

/// What the use case works with.
pub struct Deps<'a, S, H, C, R> {
    /// Orders.
    pub store: &'a S,
    /// Calls to the messaging provider.
    pub http: &'a H,
    /// Time.
    pub clock: &'a C,
    /// Jitter.
    pub random: &'a R,
}

/// What the queue is to do with the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forget it: the message is sent, given up or not needed.
    Done,
    /// Bring it again after this many seconds.
    Again(u32),
}

/// Sends one message. `first` says that the queue hands this task out for the first time.
pub async fn deliver<S: OrderStore, H: HttpSend, C: Clock, R: Random>(
    deps: &Deps<'_, S, H, C, R>,
    tenant: &Tenant,
    channel: &dyn Channel,
    task: &DeliverTask,
    first: bool,
) -> Result<Verdict, StoreError> {
    let mut blind = first && task.attempt == 0;
    // An interactive message that finds the window closed is followed by its template at once; hence twice.
    for _ in 0..2 {
        let claimed = if blind {
            claim_first(deps, tenant, channel, task).await?
        } else {
            claim_again(deps, tenant, channel, task).await?
        };
        blind = false;
        let order = match claimed {
            Claim::Mine(order) => order,
            Claim::Verdict(verdict) => return Ok(verdict),
            Claim::Look => continue,
        };
        match attempt(deps, tenant, channel, *order, &task.message).await? {
            Attempted::Verdict(verdict) => return Ok(verdict),
            Attempted::TemplateNext => {}
        }
    }
    Ok(Verdict::Again(1))
}

enum Claim {
    Mine(Box<Order>),
    Verdict(Verdict),
    /// Somebody tried before; read the order and decide.
    Look,
}

/// Claims the first try without reading first: nearly every task comes here exactly once.
async fn claim_first<S: OrderStore, H, C: Clock, R>(
    deps: &Deps<'_, S, H, C, R>,
    tenant: &Tenant,
    channel: &dyn Channel,
    task: &DeliverTask,
) -> Result<Claim, StoreError> {
    let now = deps.clock.now();
    let (form, fallback) = form(tenant, &task.message, false);
    let append = claim(task, 1, form, fallback, channel.name(), now, None);
    match deps.store.append(&task.key(), &append).await? {
        Appended::Done(order) => settle_or_send(deps, order, &task.message, channel).await,
        Appended::Duplicate(_) | Appended::Stale(_) => Ok(Claim::Look),
        Appended::Missing | Appended::Alias(_) => {
            tracing::error!(order.reference_id = %task.reference_id, "a task names an order that does not exist");
            Ok(Claim::Verdict(Verdict::Done))
        }
    }
}

/// Reads the order and claims the next try, if there is to be one now.
async fn claim_again<S: OrderStore, H, C: Clock, R: Random>(
    deps: &Deps<'_, S, H, C, R>,
    tenant: &Tenant,
    channel: &dyn Channel,
    task: &DeliverTask,
) -> Result<Claim, StoreError> {
    let now = deps.clock.now();
    let Some(mut order) = deps.store.load(&task.key()).await? else {
        tracing::error!(order.reference_id = %task.reference_id, "a task names an order that does not exist");
        return Ok(Claim::Verdict(Verdict::Done));
    };
    let Some(message) = order.message(&task.message) else {
        return Ok(Claim::Verdict(Verdict::Done));
    };
    if let Some(verdict) = too_early(message, now) {
        return Ok(Claim::Verdict(verdict));
    }
    if message.status == MessageStatus::Sending {
        // A try that never ended counts as one, or a message that kills its sender would be tried for ever.
        order = end_unfinished(deps, channel, order, &task.message).await?;
    }
    let Some(message) = order.message(&task.message) else {
        return Ok(Claim::Verdict(Verdict::Done));
    };
    if message.status.is_settled() {
        return Ok(Claim::Verdict(Verdict::Done));
    }
    let (form, fallback) = form(tenant, &task.message, message.window_closed);
    let attempt = message.attempts.saturating_add(1);
    let append = claim(
        task,
        attempt,
        form,
        fallback,
        channel.name(),
        now,
        Some(order.events.len()),
    );
    match deps.store.append(&task.key(), &append).await? {
        Appended::Done(order) => settle_or_send(deps, order, &task.message, channel).await,
        // Somebody wrote in between (a webhook, a second copy of this task). Look again in a moment.
        Appended::Duplicate(_) | Appended::Stale(_) => Ok(Claim::Verdict(Verdict::Again(1))),
        Appended::Missing | Appended::Alias(_) => Ok(Claim::Verdict(Verdict::Done)),
    }
}

/// Records that a try began and nobody knows how it ended. When the schedule is used up, the message is given up.
async fn end_unfinished<S: OrderStore, H, C: Clock, R: Random>(
    deps: &Deps<'_, S, H, C, R>,
    channel: &dyn Channel,
    order: Order,
    key: &MessageKey,
) -> Result<Order, StoreError> {
    let now = deps.clock.now();
    let Some(message) = order.message(key) else {
        return Ok(order);
    };
    let (attempt, failures) = (message.attempts, message.failures.saturating_add(1));
    let more = delivery::wait(failures, Remedy::Unknown, deps.random.number()).is_some();
    let failure = SendFailure {
        remedy: Remedy::Unknown,
        code: "unfinished".to_owned(),
        detail: String::new(),
    };
    let event = Event::SendFailed {
        message: key.clone(),
        attempt,
        failure,
        again_at: more.then_some(now),
    };
    let once = Once::outcome(key, attempt);
    let order = record(
        deps.store,
        &order,
        once,
        Recorded::new(now, channel.name(), event),
    )
    .await?;
    if order
        .message(key)
        .is_some_and(|m| m.status == MessageStatus::Failed)
    {
        report_given_up(&order, key, "unfinished");
    }
    Ok(order)
}

fn claim(
    task: &DeliverTask,
    attempt: u32,
    form: Form,
    fallback: bool,
    by: &str,
    now: Millis,
    expect: Option<usize>,
) -> Append {
    let event = Event::Try {
        message: task.message.clone(),
        attempt,
        form,
        fallback,
    };
    Append {
        once: Some(Once::attempt(&task.message, attempt)),
        events: vec![Recorded::new(now, by, event)],
        expect,
        due: Due::Keep,
    }
}

/// Whether the message needs no try now.
fn too_early(message: &Message, now: Millis) -> Option<Verdict> {
    let until = match message.status {
        status if status.is_settled() => return Some(Verdict::Done),
        MessageStatus::Retrying | MessageStatus::Unknown => message.again_at,
        // A try without an end: we crashed, or are still at it. The provider's own report may still tell.
        MessageStatus::Sending => message
            .tried_at
            .map(|t| t.plus_seconds(delivery::UNKNOWN_WAIT.into())),
        _ => None,
    }?;
    let left = until.get().saturating_sub(now.get());
    (left > 0).then(|| {
        let seconds = left.saturating_add(999).checked_div(1000).unwrap_or(0);
        Verdict::Again(
            u32::try_from(seconds)
                .unwrap_or(delivery::LONGEST)
                .min(delivery::LONGEST),
        )
    })
}

/// The claim is stored. If the message is not needed any more, that is recorded instead of sending it.
async fn settle_or_send<S: OrderStore, H, C: Clock, R>(
    deps: &Deps<'_, S, H, C, R>,
    order: Order,
    key: &MessageKey,
    channel: &dyn Channel,
) -> Result<Claim, StoreError> {
    let now = deps.clock.now();
    if order.message(key).is_none() {
        tracing::error!(order.reference_id = %order.key.reference, message.key = %key, "a task names a message the order does not owe");
        return Ok(Claim::Verdict(Verdict::Done));
    }
    if order
        .message(key)
        .is_some_and(|m| m.status != MessageStatus::Sending)
    {
        return Ok(Claim::Verdict(Verdict::Done));
    }
    let Some(why) = needless(&order, key, now) else {
        return Ok(Claim::Mine(Box::new(order)));
    };
    let event = Event::Skipped {
        message: key.clone(),
        why: why.to_owned(),
    };
    record(
        deps.store,
        &order,
        Once::named(&format!("s:{key}")),
        Recorded::new(now, channel.name(), event),
    )
    .await?;
    Ok(Claim::Verdict(Verdict::Done))
}

/// Why a message need not be sent any more.
fn needless(order: &Order, key: &MessageKey, now: Millis) -> Option<&'static str> {
    let status = order.payment_status();
    match key {
        MessageKey::Invoice(number) => {
            let newer = order
                .messages
                .iter()
                .any(|m| matches!(m.key, MessageKey::Invoice(n) if n > *number));
            match status {
                _ if newer => Some("the bill was sent again"),
                PaymentStatus::Canceled => Some("the order was canceled"),
                PaymentStatus::Expired => Some("the bill has expired"),
                PaymentStatus::Pending | PaymentStatus::Failed if now >= last_moment(order) => {
                    Some("the bill has expired")
                }
                // The customer has an order on the phone already; a second one to pay would invite paying twice.
                paid if paid.is_paid() && order.bill_was_sent() => Some("it is paid"),
                _ => None,
            }
        }
        MessageKey::Status(_) if !order.bill_was_sent() => Some("the customer never got the bill"),
        MessageKey::Status(_) | MessageKey::Paid | MessageKey::Receipt => None,
    }
}

/// When a bill is no longer worth sending. WhatsApp takes no end nearer than 300 seconds; a link ends by itself, but a native
/// checkout without an end could be paid for ever.
fn last_moment(order: &Order) -> Millis {
    match order.terms().mode {
        PaymentMode::PaymentGateway => order.expires_at().plus_seconds(-330),
        PaymentMode::PaymentLink | PaymentMode::UpiIntent => order.expires_at(),
    }
}

enum Attempted {
    Verdict(Verdict),
    TemplateNext,
}

/// Makes one claimed try and records how it ended.
async fn attempt<S: OrderStore, H: HttpSend, C: Clock, R: Random>(
    deps: &Deps<'_, S, H, C, R>,
    tenant: &Tenant,
    channel: &dyn Channel,
    order: Order,
    key: &MessageKey,
) -> Result<Attempted, StoreError> {
    let Some(message) = order.message(key) else {
        return Ok(Attempted::Verdict(Verdict::Done));
    };
    let number = message.attempts;
    let failures = message.failures.saturating_add(1);
    let tag = Tag {
        reference: order.key.reference.clone(),
        message: key.clone(),
        attempt: number,
    };
    let result = match outgoing(tenant, &order, message, &tag, deps.clock.now()) {
        Some(outgoing) => send(deps.http, channel, &outgoing).await,
        None => Err(SendFailure {
            remedy: Remedy::GiveUp,
            code: "nothing_to_send".to_owned(),
            detail: "the order has no payment to offer".to_owned(),
        }),
    };
    let now = deps.clock.now();
    let (event, verdict) = match result {
        Ok((id, segments)) => {
            tracing::info!(
                order.tenant_id = %order.key.tenant, order.reference_id = %order.key.reference,
                message.key = %key, delivery.attempt = number, channel.name = channel.name(), "sent"
            );
            (
                Event::Sent {
                    message: key.clone(),
                    attempt: number,
                    id,
                    segments,
                },
                Verdict::Done,
            )
        }
        Err(failure) => {
            let wait = delivery::wait(failures, failure.remedy, deps.random.number());
            let again_at = wait.map(|seconds| now.plus_seconds(seconds.into()));
            tracing::warn!(
                order.tenant_id = %order.key.tenant, order.reference_id = %order.key.reference,
                message.key = %key, delivery.attempt = number, channel.name = channel.name(),
                provider.code = failure.code, retry_in_seconds = wait, "not sent: {:?}", failure.remedy
            );
            let event = Event::SendFailed {
                message: key.clone(),
                attempt: number,
                failure,
                again_at,
            };
            (event, wait.map_or(Verdict::Done, Verdict::Again))
        }
    };
    let code = match &event {
        Event::SendFailed { failure, .. } => Some(failure.code.clone()),
        _ => None,
    };
    let stored = record(
        deps.store,
        &order,
        Once::outcome(key, number),
        Recorded::new(now, channel.name(), event),
    )
    .await?;
    let after = stored.message(key);
    if after.is_some_and(|m| m.template_next) {
        return Ok(Attempted::TemplateNext);
    }
    if let (Some(code), Some(MessageStatus::Failed)) = (code, after.map(|m| m.status)) {
        report_given_up(&stored, key, &code);
    }
    Ok(Attempted::Verdict(verdict))
}

/// Records one event and sets when the order is due according to what is then outstanding.
async fn record<S: OrderStore>(
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

async fn send<H: HttpSend>(
    http: &H,
    channel: &dyn Channel,
    message: &Outgoing<'_>,
) -> Result<(String, Option<u8>), SendFailure> {
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        match channel.send(message, &answers) {
            SendStep::Sent { id, segments } => return Ok((id, segments)),
            SendStep::Failed(failure) => return Err(failure),
            SendStep::Call(call) if answers.len() < MAX_CALLS => {
                answers.push(http.send(&call).await)
            }
            SendStep::Call(_) => {
                return Err(SendFailure {
                    remedy: Remedy::Unknown,
                    code: "endless".to_owned(),
                    detail: "the conversation did not end".to_owned(),
                });
            }
        }
    }
}

fn template<'a>(tenant: &'a Tenant, key: &MessageKey) -> Option<&'a Template> {
    match key {
        MessageKey::Invoice(_) => tenant.channel.invoice.as_ref(),
        MessageKey::Paid | MessageKey::Status(_) => tenant.channel.status.as_ref(),
        MessageKey::Receipt => tenant.channel.receipt.as_ref(),
    }
}

/// The form of the next try, and whether a template stands by should the window turn out closed.
fn form(tenant: &Tenant, key: &MessageKey, window_closed: bool) -> (Form, bool) {
    match template(tenant, key) {
        None => (Form::Interactive, false),
        Some(_) if window_closed || tenant.channel.form == Form::Template => {
            (Form::Template, false)
        }
        Some(_) => (Form::Interactive, true),
    }
}

/// Puts together what a message says.
fn outgoing<'a>(
    tenant: &'a Tenant,
    order: &'a Order,
    message: &Message,
    tag: &'a Tag,
    now: Millis,
) -> Option<Outgoing<'a>> {
    let bill = order.bill();
    let receipt = &order.terms().receipt_url;
    let shop = &tenant.display_name;
    let paid = format!(
        "{shop} received your payment of {}. Thank you! Receipt: {receipt}",
        bill.total.rupees()
    );
    let mut key = message.key.clone();
    let content = match &message.key {
        MessageKey::Invoice(_) => Content::Invoice {
            payment: checkout(tenant, order)?,
        },
        MessageKey::Paid => match order.paid_status() {
            Some(status) if order.bill_was_sent() => Content::Status {
                status,
                description: None,
                text: paid,
            },
            // There is no order on the customer's phone whose status could change, or it is final already.
            _ => {
                key = MessageKey::Receipt;
                Content::Receipt { text: paid }
            }
        },
        MessageKey::Receipt => Content::Receipt {
            text: format!("Your receipt from {shop}: {receipt}"),
        },
        MessageKey::Status(number) => {
            let (status, description) = order.fulfilment_change(*number)?;
            let words = status.as_str().replace('_', " ");
            Content::Status {
                status,
                description,
                text: format!(
                    "Your order {} at {shop} is {words}. {receipt}",
                    bill.reference
                ),
            }
        }
    };
    let template = if message.form == Some(Form::Template) {
        template(tenant, &key)
    } else {
        None
    };
    Some(Outgoing {
        to: &order.phone,
        reference: reference(order, &message.key),
        tag,
        bill,
        now,
        expires_at: order.expires_at(),
        mode: order.terms().mode,
        shop,
        receipt_url: receipt,
        callback_base: receipt.rsplit_once("/r/").map_or("", |(base, _)| base),
        payment_id: order.payment().map(|(id, _)| id),
        captured: order.captured_amount(),
        content,
        template,
    })
}

/// Under which reference the provider knows what the message is about: a bill under its own, news of the order under that of the
/// latest bill that went out. A resend that has not gone out yet, or never will, is nothing a status could refer to.
fn reference<'a>(order: &'a Order, key: &MessageKey) -> &'a ReferenceId {
    if matches!(key, MessageKey::Invoice(_)) {
        return &order.message_reference;
    }
    let sent = order.messages.iter().rev().find_map(|m| match m.key {
        MessageKey::Invoice(number) if m.sent_at.is_some() => Some(number),
        _ => None,
    });
    order
        .events
        .iter()
        .find_map(|r| match &r.event {
            Event::Resend {
                number, reference, ..
            } if Some(*number) == sent => Some(reference),
            _ => None,
        })
        .unwrap_or(&order.key.reference)
}

fn checkout<'a>(tenant: &'a Tenant, order: &'a Order) -> Option<Checkout<'a>> {
    match order.terms().mode {
        PaymentMode::PaymentGateway => Some(Checkout::Configuration {
            gateway: &order.terms().gateway,
            name: tenant.payment.configuration_name.as_deref()?,
        }),
        PaymentMode::PaymentLink => order
            .started
            .as_ref()
            .map(|s| Checkout::Link { url: &s.link }),
        PaymentMode::UpiIntent => order
            .started
            .as_ref()
            .map(|s| Checkout::Intent { uri: &s.link }),
    }
}
