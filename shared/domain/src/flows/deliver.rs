//! Sends one message an order owes. Called for each task of the queue, as often as the queue likes.
//!
//! Round trips of the first try: store (claims the try and reads the order), provider, store (records the outcome). A later
//! try reads first. By SMS one more, which makes the short link; with `form: auto` two more, which read the order and the customer's
//! window first. A try is written down before the provider is called, so a crash leaves a trace and is treated like a lost answer.

use crate::connector::{Channel, SendStep};
use crate::delivery;
use crate::event::{Event, Once, Recorded};
use crate::flows::{record, report_given_up, report_turned};
use crate::http::{Answer, MAX_CALLS};
use crate::ids::{OrderKey, ReferenceId};
use crate::message::{
    Checkout, Content, Form, MessageKey, Outgoing, QrCode, Remedy, SendFailure, Tag, Template,
};
use crate::money::Paise;
use crate::order::{Message, MessageStatus, Order, PaymentStatus};
use crate::pace::{Pace, Turn};
use crate::payment::PaymentMode;
use crate::ports::{
    Append, Appended, Clock, Contact, Contacts, DeliverTask, Due, HttpSend, Links, OrderStore,
    Random, StoreError,
};
use crate::tenant::{ChannelKind, FirstForm, QrHeader, Tenant};
use crate::time::Millis;
use crate::token::ShortCode;

/// What the use case works with.
pub struct Deps<'a, S, H, C, R> {
    /// Orders, customers' windows and wishes, short links.
    pub store: &'a S,
    /// Calls to the messaging provider.
    pub http: &'a H,
    /// Time.
    pub clock: &'a C,
    /// Jitter.
    pub random: &'a R,
    /// How fast senders may go.
    pub pace: &'a Pace,
    /// Draws the code to pay as a PNG, for tenants that have it uploaded.
    pub draw: fn(&str) -> Option<Vec<u8>>,
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
pub async fn deliver<S: OrderStore + Contacts + Links, H: HttpSend, C: Clock, R: Random>(
    deps: &Deps<'_, S, H, C, R>,
    tenant: &Tenant,
    channel: &dyn Channel,
    task: &DeliverTask,
    first: bool,
) -> Result<Verdict, StoreError> {
    let sender = sender(tenant);
    match deps.pace.turn(&sender, channel.rate(), deps.clock.now()) {
        Turn::Later(seconds) => return Ok(Verdict::Again(seconds)),
        Turn::In(0) => {}
        Turn::In(wait) => {
            let wait = u64::try_from(wait).unwrap_or_default();
            deps.clock
                .sleep(std::time::Duration::from_millis(wait))
                .await;
        }
    }
    // Which form to use depends on the customer's window, and the customer stands in the order.
    let looks = tenant.channel.form == FirstForm::Auto
        && tenant.channel.kind == ChannelKind::WhatsApp
        && template(tenant, &task.message).is_some();
    let mut blind = first && task.attempt == 0 && !looks;
    // An interactive message that finds the window closed is followed by its template at once, and what fails on WhatsApp for
    // good by an SMS; hence three times.
    for _ in 0..3 {
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
            Attempted::OtherForm => {}
        }
    }
    Ok(Verdict::Again(1))
}

/// Whose rate a message counts against: the number or header it is sent from.
fn sender(tenant: &Tenant) -> String {
    format!("{}/{}", tenant.channel.account.vendor, tenant.channel.from)
}

enum Claim {
    Mine(Box<Order>),
    Verdict(Verdict),
    /// Somebody tried before; read the order and decide.
    Look,
}

/// Claims the first try without reading first: nearly every task comes here exactly once.
async fn claim_first<S: OrderStore + Contacts + Links, H, C: Clock, R>(
    deps: &Deps<'_, S, H, C, R>,
    tenant: &Tenant,
    channel: &dyn Channel,
    task: &DeliverTask,
) -> Result<Claim, StoreError> {
    let now = deps.clock.now();
    let plan = plan(tenant, &task.message, None, false);
    if plan.form == Form::Sms {
        shorten(deps.store, tenant, &task.key()).await?;
    }
    let append = claim(task, 1, plan, channel.name(), now, None);
    match deps.store.append(&task.key(), &append).await? {
        Appended::Done(order) => settle_or_send(deps, tenant, order, &task.message, channel).await,
        Appended::Duplicate(_) | Appended::Stale(_) => Ok(Claim::Look),
        Appended::Missing | Appended::Alias(_) => {
            tracing::error!(order.reference_id = %task.reference_id, "a task names an order that does not exist");
            Ok(Claim::Verdict(Verdict::Done))
        }
    }
}

/// Reads the order and claims the next try, if there is to be one now.
async fn claim_again<S: OrderStore + Contacts + Links, H, C: Clock, R: Random>(
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
        let ended = message.attempts;
        order = end_unfinished(deps, channel, order, &task.message).await?;
        if order
            .message(&task.message)
            .is_some_and(|m| m.attempts != ended)
        {
            // Another copy of this task ended it first and has begun the next try; two at once would send twice.
            return Ok(Claim::Verdict(Verdict::Again(1)));
        }
    }
    let Some(message) = order.message(&task.message) else {
        return Ok(Claim::Verdict(Verdict::Done));
    };
    if message.status.is_settled() {
        return Ok(Claim::Verdict(Verdict::Done));
    }
    if let Some(seconds) = must_wait(&order, &task.message, now) {
        return Ok(Claim::Verdict(Verdict::Again(seconds)));
    }
    if order.is_out_of_sendings() {
        report_given_up(&order, &task.message, "too_many_sendings");
        return skip(deps, channel, &order, &task.message, OUT_OF_SENDINGS).await;
    }
    let open = match tenant.channel.form {
        FirstForm::Auto => {
            let window = deps.store.window(&contact(&order)).await?;
            window.is_some_and(|until| now < until)
        }
        FirstForm::Template | FirstForm::Interactive => false,
    };
    let plan = plan(tenant, &task.message, Some((&order, message)), open);
    if plan.form == Form::Sms {
        shorten(deps.store, tenant, &task.key()).await?;
    }
    let attempt = message.attempts.saturating_add(1);
    let append = claim(
        task,
        attempt,
        plan,
        channel.name(),
        now,
        Some(order.events.len()),
    );
    match deps.store.append(&task.key(), &append).await? {
        Appended::Done(order) => settle_or_send(deps, tenant, order, &task.message, channel).await,
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
    let recorded = Recorded::new(now, channel.name(), event);
    warn_if_given_up(&order, key, &recorded);
    let order = record(deps.store, &order, once, recorded).await?;
    Ok(order)
}

/// The alarm comes before it is stored that a message is given up: who dies in between tries again and says it twice, not never.
fn warn_if_given_up(order: &Order, key: &MessageKey, recorded: &Recorded) {
    let Event::SendFailed { failure, .. } = &recorded.event else {
        return;
    };
    let after = order.with(recorded.clone());
    if after
        .message(key)
        .is_some_and(|m| m.status == MessageStatus::Failed)
    {
        report_given_up(order, key, &failure.code);
    }
}

fn claim(
    task: &DeliverTask,
    attempt: u32,
    plan: Plan,
    by: &str,
    now: Millis,
    expect: Option<usize>,
) -> Append {
    let event = Event::Try {
        message: task.message.clone(),
        attempt,
        form: plan.form,
        fallback: plan.template_stands_by,
        sms: plan.sms_stands_by,
    };
    Append {
        once: Some(Once::attempt(&task.message, attempt)),
        events: vec![Recorded::new(now, by, event)],
        expect,
        at_most: None,
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
async fn settle_or_send<S: OrderStore + Contacts, H, C: Clock, R>(
    deps: &Deps<'_, S, H, C, R>,
    tenant: &Tenant,
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
    let why = match needless(&order, key, now) {
        Some(why) => why,
        None => {
            if let Some(seconds) = must_wait(&order, key, now) {
                return put_off(deps, channel, &order, key, "waits_its_turn", seconds).await;
            }
            match deps.store.opted_out(&contact(&order), now).await {
                Ok(false) => {}
                Ok(true) => return skip(deps, channel, &order, key, OPTED_OUT).await,
                Err(error) => {
                    // Nothing was sent, and that must not look as if something might have been.
                    tracing::warn!(order.reference_id = %order.key.reference, "opt-outs cannot be read: {error}");
                    return put_off(deps, channel, &order, key, "opt_outs_unread", 30).await;
                }
            }
            let turns = order
                .message(key)
                .is_some_and(|m| m.form != Some(Form::Sms) && elsewhere(tenant, &order, m));
            if turns {
                return turn(deps, channel, &order, key).await;
            }
            return Ok(Claim::Mine(Box::new(order)));
        }
    };
    skip(deps, channel, &order, key, why).await
}

const OUT_OF_SENDINGS: &str = "too many messages of this order had to be tried again";
const OPTED_OUT: &str = "the customer asked not to be written to";

async fn skip<S: OrderStore, H, C: Clock, R>(
    deps: &Deps<'_, S, H, C, R>,
    channel: &dyn Channel,
    order: &Order,
    key: &MessageKey,
    why: &str,
) -> Result<Claim, StoreError> {
    let event = Event::Skipped {
        message: key.clone(),
        why: why.to_owned(),
    };
    let recorded = Recorded::new(deps.clock.now(), channel.name(), event);
    record(
        deps.store,
        order,
        Once::named(&format!("s:{key}")),
        recorded,
    )
    .await?;
    Ok(Claim::Verdict(Verdict::Done))
}

/// A claimed try that was not made for a reason of our own; it comes again after the pause.
async fn put_off<S: OrderStore, H, C: Clock, R>(
    deps: &Deps<'_, S, H, C, R>,
    channel: &dyn Channel,
    order: &Order,
    key: &MessageKey,
    why: &str,
    pause: u32,
) -> Result<Claim, StoreError> {
    let now = deps.clock.now();
    let attempt = order.message(key).map_or(1, |m| m.attempts);
    let event = Event::SendFailed {
        message: key.clone(),
        attempt,
        failure: SendFailure {
            remedy: Remedy::Retry,
            code: why.to_owned(),
            detail: String::new(),
        },
        again_at: Some(now.plus_seconds(pause.into())),
    };
    let recorded = Recorded::new(now, channel.name(), event);
    record(deps.store, order, Once::outcome(key, attempt), recorded).await?;
    Ok(Claim::Verdict(Verdict::Again(pause)))
}

/// The try was claimed before it was known that the order had turned to SMS. Nothing was sent; the next claim knows.
async fn turn<S: OrderStore, H, C: Clock, R>(
    deps: &Deps<'_, S, H, C, R>,
    channel: &dyn Channel,
    order: &Order,
    key: &MessageKey,
) -> Result<Claim, StoreError> {
    let attempt = order.message(key).map_or(1, |m| m.attempts);
    let event = Event::SendFailed {
        message: key.clone(),
        attempt,
        failure: SendFailure {
            remedy: Remedy::GiveUp,
            code: "turned_to_sms".to_owned(),
            detail: "WhatsApp failed for this order before".to_owned(),
        },
        again_at: None,
    };
    let recorded = Recorded::new(deps.clock.now(), channel.name(), event);
    record(deps.store, order, Once::outcome(key, attempt), recorded).await?;
    Ok(Claim::Look)
}

fn contact(order: &Order) -> Contact {
    Contact {
        tenant: order.key.tenant.clone(),
        phone: order.phone.clone(),
    }
}

/// Makes the short link an SMS carries. The same each time, so a repetition changes nothing.
async fn shorten<L: Links>(links: &L, tenant: &Tenant, key: &OrderKey) -> Result<(), StoreError> {
    match tenant.receipt_secret() {
        Some(secret) => links.shorten(&ShortCode::issue(key, secret), key).await,
        None => Ok(()),
    }
}

/// Why a message need not be sent any more.
fn needless(order: &Order, key: &MessageKey, now: Millis) -> Option<&'static str> {
    let status = order.payment_status();
    match key {
        MessageKey::Invoice(_) => order.bill_is_needless(key).or_else(|| {
            (status.is_open() && now >= last_moment(order)).then_some("the bill has expired")
        }),
        // An SMS that says how a paid order goes on needs no bill before it.
        MessageKey::Status(_)
            if !(order.bill_was_sent()
                || order.bill_is_open()
                || status.is_paid() && by_sms(order)) =>
        {
            Some("the customer never got the bill")
        }
        MessageKey::Failed if status != PaymentStatus::Failed => {
            Some("the failed attempt is no longer the latest news")
        }
        MessageKey::Status(_)
        | MessageKey::Paid
        | MessageKey::Receipt
        | MessageKey::Failed
        | MessageKey::Refund(_) => None,
    }
}

fn by_sms(order: &Order) -> bool {
    order.terms().channel == ChannelKind::Sms.as_str() || order.turned_to_sms.is_some()
}

/// A message that is with the provider this moment has ended or died after this, seconds.
const ON_ITS_WAY: i64 = 60;
/// One that is owed since so little time, seconds, is about to go out.
const JUST_OWED: i64 = 10;
/// What is about to go out is waited for so long, seconds.
const A_MOMENT: u32 = 2;
/// Nobody waits longer than this without looking again, seconds.
const LONGEST_LOOK: u32 = 900;

/// Seconds until this message may go out after those that were owed before it. It waits for what is going out this moment, so that
/// things arrive in the sequence they happened, and never for another message's retry, except for the bill without which it says
/// nothing.
fn must_wait(order: &Order, key: &MessageKey, now: Millis) -> Option<u32> {
    order
        .messages
        .iter()
        .take_while(|m| m.key != *key)
        .filter(|m| m.key.line() != key.line() && !m.status.is_settled())
        .filter(|m| needless(order, &m.key, now).is_none())
        .filter_map(|earlier| waits_for(order, earlier, key, now))
        .max()
}

fn waits_for(order: &Order, earlier: &Message, key: &MessageKey, now: Millis) -> Option<u32> {
    let within = |since: Millis, seconds| now < since.plus_seconds(seconds);
    let since = earlier.tried_at.unwrap_or(earlier.since);
    let going_out = match earlier.status {
        MessageStatus::Sending => within(since, ON_ITS_WAY),
        MessageStatus::Queued => within(since, JUST_OWED),
        _ => false,
    };
    if going_out {
        return Some(A_MOMENT);
    }
    let is_bill = matches!(earlier.key, MessageKey::Invoice(_));
    (is_bill && order.waits_for_bill(key)).then(|| {
        // Without a plan, whoever was sending it died; its task comes back.
        let planned = earlier
            .again_at
            .map_or(ON_ITS_WAY, |at| at.seconds_since(now));
        let planned = u32::try_from(planned.max(0)).unwrap_or(LONGEST_LOOK);
        planned.saturating_add(A_MOMENT).min(LONGEST_LOOK)
    })
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
    /// It goes on at once in another form.
    OtherForm,
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
    let tag = Tag {
        reference: order.key.reference.clone(),
        message: key.clone(),
        attempt: number,
    };
    let picture = picture(tenant, &order, message, deps.draw);
    let receipt = receipt_url(tenant, &order, message.form);
    let links = Addresses {
        receipt: &receipt,
        picture: picture.as_deref(),
    };
    let result = match outgoing(tenant, &order, message, &tag, deps.clock.now(), &links) {
        Some(outgoing) => send(deps.http, channel, &outgoing).await,
        None => Err(SendFailure {
            remedy: Remedy::GiveUp,
            code: "nothing_to_send".to_owned(),
            detail: "the order has no payment to offer".to_owned(),
        }),
    };
    let now = deps.clock.now();
    let remedy = result.as_ref().err().map(|failure| failure.remedy);
    deps.pace.ended(&sender(tenant), remedy, now);
    let (event, verdict) = match result {
        Ok((id, segments)) => {
            tracing::info!(
                event = "message_sent", order.tenant_id = %order.key.tenant, order.reference_id = %order.key.reference,
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
            let failure = after_the_bill(&order, key, failure, now);
            let wait = message.wait(failure.remedy, deps.random.number());
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
    let recorded = Recorded::new(now, channel.name(), event);
    warn_if_given_up(&order, key, &recorded);
    let stored = record(deps.store, &order, Once::outcome(key, number), recorded).await?;
    let after = stored.message(key);
    if after.is_some_and(|m| m.template_next) {
        return Ok(Attempted::OtherForm);
    }
    if after.is_some_and(|m| m.sms_next) {
        report_turned(&stored, key);
        return Ok(Attempted::OtherForm);
    }
    // The provider's report can overtake an answer that is lost, and a payment the bill. Then nothing is left to wait for, and a task
    // that waited would keep the next message of its line waiting behind it.
    if after.is_some_and(|m| m.status.is_settled()) {
        return Ok(Attempted::Verdict(Verdict::Done));
    }
    Ok(Attempted::Verdict(verdict))
}

/// A confirmation that had to do without the bill and found the customer's window closed comes again when the bill has been tried again:
/// once the customer has it, its template works.
fn after_the_bill(
    order: &Order,
    key: &MessageKey,
    failure: SendFailure,
    now: Millis,
) -> SendFailure {
    let needs_bill = *key == MessageKey::Paid
        && failure.remedy == Remedy::UseTemplate
        && !order.bill_was_sent()
        && order.bill_is_open();
    if !needs_bill {
        return failure;
    }
    let planned = order
        .messages
        .iter()
        .filter(|m| matches!(m.key, MessageKey::Invoice(_)) && !m.status.is_settled())
        .filter_map(|m| m.again_at)
        .max();
    let seconds = planned.map_or(0, |at| at.seconds_since(now).max(0));
    SendFailure {
        remedy: Remedy::RetryAfter(
            u32::try_from(seconds)
                .unwrap_or(delivery::LONGEST)
                .saturating_add(JUST_AFTER),
        ),
        ..failure
    }
}

/// Seconds.
const JUST_AFTER: u32 = 10;

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
        MessageKey::Refund(_) => tenant
            .channel
            .refund
            .as_ref()
            .or(tenant.channel.receipt.as_ref()),
        MessageKey::Failed => None,
    }
}

/// How the next try goes out, and what follows when it fails.
#[derive(Clone, Copy)]
struct Plan {
    form: Form,
    /// Should the window turn out closed.
    template_stands_by: bool,
    /// Should WhatsApp definitely fail.
    sms_stands_by: bool,
}

/// `open`: the customer is known to have written within 24 hours.
fn plan(tenant: &Tenant, key: &MessageKey, known: Option<(&Order, &Message)>, open: bool) -> Plan {
    let by_sms = known.is_some_and(|(order, m)| m.by_sms || elsewhere(tenant, order, m));
    let window_closed = known.is_some_and(|(_, m)| m.window_closed);
    let form = match (template(tenant, key), tenant.channel.form) {
        _ if by_sms || tenant.channel.kind == ChannelKind::Sms => Form::Sms,
        (None, _) => Form::Interactive,
        (Some(_), _) if window_closed => Form::Template,
        (Some(_), FirstForm::Interactive) => Form::Interactive,
        (Some(_), FirstForm::Auto) if open => Form::Interactive,
        (Some(_), FirstForm::Template | FirstForm::Auto) => Form::Template,
    };
    Plan {
        form,
        template_stands_by: form == Form::Interactive && template(tenant, key).is_some(),
        sms_stands_by: form != Form::Sms && tenant.channel.fallback_to_sms,
    }
}

/// WhatsApp failed for another message of this order, and of this one nothing can have arrived.
fn elsewhere(tenant: &Tenant, order: &Order, message: &Message) -> bool {
    order.turned_to_sms.is_some() && tenant.channel.fallback_to_sms && !message.may_have_arrived()
}

/// What a message links to.
struct Addresses<'a> {
    receipt: &'a str,
    picture: Option<&'a [u8]>,
}

/// The receipt page, by its short name in an SMS.
fn receipt_url(tenant: &Tenant, order: &Order, form: Option<Form>) -> String {
    let url = &order.terms().receipt_url;
    match (form, tenant.receipt_secret(), url.rsplit_once("/r/")) {
        (Some(Form::Sms), Some(secret), Some((base, _))) => {
            format!("{base}/r/{}", ShortCode::issue(&order.key, secret).as_str())
        }
        _ => url.clone(),
    }
}

/// The code to pay, for tenants that have it uploaded.
fn picture(
    tenant: &Tenant,
    order: &Order,
    message: &Message,
    draw: fn(&str) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let wanted = tenant.channel.qr_header == Some(QrHeader::Upload) && shows_qr(order, message);
    let started = order.started.as_ref().filter(|_| wanted)?;
    draw(&started.link)
}

/// A bill on WhatsApp that has something to scan and brings no header of its own.
fn shows_qr(order: &Order, message: &Message) -> bool {
    matches!(message.key, MessageKey::Invoice(_))
        && message.form != Some(Form::Sms)
        && !message.bare
        && order.bill().header.is_none()
}

/// Puts together what a message says.
fn outgoing<'a>(
    tenant: &'a Tenant,
    order: &'a Order,
    message: &Message,
    tag: &'a Tag,
    now: Millis,
    links: &Addresses<'a>,
) -> Option<Outgoing<'a>> {
    let bill = order.bill();
    let receipt = links.receipt;
    let shop = &tenant.display_name;
    let paid = format!(
        "{shop} received your payment of {}. Thank you! Receipt: {receipt}",
        paid_in_words(order)
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
        MessageKey::Refund(number) => {
            let refund = order.processed_refund(*number)?;
            Content::Refund {
                amount: refund.amount,
                text: format!(
                    "{shop} refunded {} of your bill {}. {receipt}",
                    refund.amount.rupees(),
                    bill.reference
                ),
            }
        }
        MessageKey::Failed => Content::Failed {
            text: format!(
                "Your payment of {} at {shop} did not go through. Try again: {receipt}",
                bill.total.rupees()
            ),
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
        received: order.payment().map(|_| order.paid().received),
        content,
        form: message.form.unwrap_or(Form::Interactive),
        template,
        qr: match (tenant.channel.qr_header, &order.started) {
            (Some(QrHeader::Link), Some(_)) if shows_qr(order, message) => Some(QrCode::Link(
                format!("{}/qr.png", order.terms().receipt_url),
            )),
            (Some(QrHeader::Upload), _) => links.picture.map(QrCode::Png),
            _ => None,
        },
        bare: message.bare,
    })
}

/// What the customer paid, with what it differs from the bill by.
fn paid_in_words(order: &Order) -> String {
    let paid = order.paid();
    let mut parts = Vec::new();
    if paid.fee > Paise::ZERO {
        parts.push(format!("payment fee {}", paid.fee.rupees()));
    }
    if paid.offer > Paise::ZERO {
        parts.push(format!("offer −{}", paid.offer.rupees()));
    }
    if parts.is_empty() {
        return paid.received.rupees();
    }
    let bill = paid.worth.rupees();
    format!(
        "{} (bill {bill}, {})",
        paid.received.rupees(),
        parts.join(", ")
    )
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
