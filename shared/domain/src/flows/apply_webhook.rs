//! Applies what a verified webhook says. A 2xx may be answered only when this returns `Ok`: then every effect is stored and
//! every message that follows from it is queued, or was before.
//!
//! Round trips per signal: store, queue (only when a message follows); a hint asks the holder of the money in between.

use crate::connector::{Channel, Gateway, Signal, Trust, Wish};
use crate::event::{Event, Once, Recorded};
use crate::flows::{lookup_request, queue_owed, refund, report_given_up, report_new_holds};
use crate::http::{CallError, converse};
use crate::ids::{OrderKey, ReferenceId, TenantId};
use crate::message::{Report, Tag};
use crate::order::{MessageStatus, Order};
use crate::payment::{
    AttemptStatus, Closed, Found, LookupRequest, PaymentMode, PaymentReport, RefundReport,
    RefundStatus,
};
use crate::ports::{
    Append, Appended, Clock, Contact, Contacts, Due, HttpSend, OrderStore, Queue, QueueError,
    StoreError,
};
use crate::time::Millis;

/// After a change, `reconcile` looks at the order at the latest this many seconds later, unless somebody settles it before.
const SOON: i64 = 120;

/// What the use case works with.
pub struct Deps<'a, S, Q, H, C> {
    /// Orders.
    pub store: &'a S,
    /// Work for `send-status`.
    pub queue: &'a Q,
    /// Questions to the holder of the money.
    pub http: &'a H,
    /// Time.
    pub clock: &'a C,
}

/// Whom to ask about a payment.
#[derive(Clone, Copy)]
pub struct Askable<'a> {
    /// The tenant's gateway.
    pub gateway: &'a dyn Gateway,
    /// The tenant's messaging provider, which knows of payments made natively inside WhatsApp.
    pub channel: &'a dyn Channel,
}

/// Why the sender must come again.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A hint could not be confirmed because the holder of the money does not answer.
    #[error("the payment could not be looked up: {0}")]
    Lookup(CallError),
}

/// Applies all signals of one webhook, in their sequence. Every signal is tried even when one fails, so that a poisoned neighbour
/// holds nothing up; the first failure is returned and the whole webhook comes again, which changes nothing for the others.
pub async fn apply_webhook<S: OrderStore + Contacts, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    tenant: &TenantId,
    source: &str,
    signals: Vec<Signal>,
    ask: Askable<'_>,
) -> Result<(), ApplyError> {
    let mut failure = None;
    for signal in signals {
        if let Err(error) = apply_signal(deps, tenant, source, signal, ask).await {
            tracing::warn!(error = %error, "a webhook could not be applied and will come again");
            failure = failure.or(Some(error));
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn apply_signal<S: OrderStore + Contacts, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    tenant: &TenantId,
    source: &str,
    signal: Signal,
    ask: Askable<'_>,
) -> Result<(), ApplyError> {
    match signal {
        Signal::Ignored(what) => {
            tracing::info!(webhook.source = source, "ignored: {what}");
            Ok(())
        }
        Signal::Payment {
            reference,
            report,
            trust: Trust::Proven,
        } => {
            let key = OrderKey::new(tenant.clone(), reference);
            let now = deps.clock.now();
            let once = Once::payment(&report);
            let event = Recorded::new(now, source, Event::Payment(report));
            store_fact(deps, key, once, event, now, Unknown::Park).await
        }
        Signal::Payment {
            reference,
            report,
            trust: Trust::Hint,
        } => {
            let key = OrderKey::new(tenant.clone(), reference);
            confirm(deps, key, &report, ask).await
        }
        Signal::LinkClosed { reference, reason } => {
            let key = OrderKey::new(tenant.clone(), reference);
            let now = deps.clock.now();
            let event = Recorded::new(now, source, Event::Closed { reason });
            // Our orders exist before their links do: the end of another link says nothing about a bill to come.
            store_fact(deps, key, closed_once(reason), event, now, Unknown::Ignore).await
        }
        Signal::Refund {
            reference,
            report,
            trust: Trust::Proven,
        } => {
            let key = OrderKey::new(tenant.clone(), reference);
            let now = deps.clock.now();
            let once = Once::refund(&report);
            if report.status == RefundStatus::Failed {
                tracing::error!(
                    event = "refund_failed",
                    order.tenant_id = %key.tenant, order.reference_id = %key.reference,
                    "the gateway gave up a refund"
                );
            }
            let event = Recorded::new(now, source, Event::Refund { id: None, report });
            store_fact(deps, key, once, event, now, Unknown::Park).await
        }
        Signal::Refund {
            reference,
            report,
            trust: Trust::Hint,
        } => {
            let key = OrderKey::new(tenant.clone(), reference);
            confirm_refund(deps, key, &report, ask).await
        }
        Signal::Inbound { phone, at, wish } => {
            let contact = Contact {
                tenant: tenant.clone(),
                phone,
            };
            let at = at.unwrap_or_else(|| deps.clock.now());
            inbound(deps.store, &contact, at, wish).await
        }
        Signal::Message { tag, report } => message_report(deps, tenant, source, tag, report).await,
    }
}

/// Meta, "Send messages": a customer's message opens a window of 24 hours. Seconds.
const WINDOW: i64 = 24 * 3600;

/// The customer wrote.
async fn inbound<S: Contacts>(
    store: &S,
    contact: &Contact,
    at: Millis,
    wish: Option<Wish>,
) -> Result<(), ApplyError> {
    store.open_window(contact, at.plus_seconds(WINDOW)).await?;
    if let Some(wish) = wish {
        store.wish(contact, wish, at).await?;
        tracing::info!(
            event = "customer_wish",
            order.tenant_id = %contact.tenant,
            "a customer asked for messages to {}",
            match wish {
                Wish::OptOut => "stop",
                Wish::OptIn => "start again",
            }
        );
    }
    Ok(())
}

const fn closed_name(reason: Closed) -> &'static str {
    match reason {
        Closed::Canceled => "closed:canceled",
        Closed::Expired => "closed:expired",
    }
}

/// A gateway closes a link once for each reason.
pub(crate) fn closed_once(reason: Closed) -> Once {
    Once::named(closed_name(reason))
}

/// What becomes of a fact about an order that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// It is kept for the order that may come.
    Park,
    /// It is of no consequence.
    Ignore,
}

/// Stores one fact about an order, or parks it when there is no such order yet, and queues what follows from it.
async fn store_fact<S: OrderStore, Q: Queue, H, C>(
    deps: &Deps<'_, S, Q, H, C>,
    mut key: OrderKey,
    once: Once,
    event: Recorded,
    now: Millis,
    unknown: Unknown,
) -> Result<(), ApplyError> {
    let append = Append {
        once: Some(once.clone()),
        events: vec![event],
        expect: None,
        at_most: None,
        due: Due::At(now.plus_seconds(SOON)),
    };
    // An alias leads to its order, and an order is no alias: two steps are enough.
    for _ in 0..2 {
        let order = match deps.store.append(&key, &append).await? {
            Appended::Done(order) => {
                report_new_holds(&order);
                order
            }
            // Came before. The sender repeats because our answer was lost, perhaps after a crash between store and queue.
            Appended::Duplicate(order) | Appended::Stale(order) => order,
            Appended::Alias(reference) => {
                key = OrderKey::new(key.tenant.clone(), reference);
                continue;
            }
            Appended::Missing if unknown == Unknown::Ignore => return Ok(()),
            Appended::Missing => match deps.store.park(&key, &once, &append.events, now).await? {
                // The order appeared in between.
                Appended::Done(order) => {
                    report_new_holds(&order);
                    order
                }
                Appended::Duplicate(order) | Appended::Stale(order) => order,
                Appended::Missing => {
                    tracing::warn!(
                        event = "webhook_parked",
                        order.tenant_id = %key.tenant, order.reference_id = %key.reference,
                        "there is no such order yet; the webhook is kept for 30 days"
                    );
                    return Ok(());
                }
                Appended::Alias(reference) => {
                    key = OrderKey::new(key.tenant.clone(), reference);
                    continue;
                }
            },
        };
        queue_owed(deps.queue, &order).await?;
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("{key} is an alias of an alias")).into())
}

/// Asks the holder of the money about an order and applies what it says.
async fn confirm<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    mut key: OrderKey,
    hint: &PaymentReport,
    ask: Askable<'_>,
) -> Result<(), ApplyError> {
    let mut asked_as: Option<ReferenceId> = None;
    for _ in 0..2 {
        match load(deps.store, &key).await? {
            // Several webhooks tell of one payment; what is known needs no question.
            Loaded::Order(order) if is_known(&order, &Event::Payment(hint.clone())) => {
                queue_owed(deps.queue, &order).await?;
                return Ok(());
            }
            Loaded::Order(order) => {
                let found =
                    match ask_about(deps.http, &order, ask, asked_as.as_ref(), deps.clock.now())
                        .await
                    {
                        Ok(found) => found,
                        // Coming again would not change the answer, and a sender that is refused for a day stops sending
                        // altogether. The order stays open; reconcile asks again.
                        Err(error @ (CallError::Rejected { .. } | CallError::Unsupported(_))) => {
                            report_unclear(&order, &error);
                            return Ok(());
                        }
                        Err(error) => return Err(ApplyError::Lookup(error)),
                    };
                return apply_found(
                    deps.store,
                    deps.queue,
                    deps.clock,
                    *order,
                    found,
                    source_of(ask),
                )
                .await
                .map(|_| ());
            }
            Loaded::Alias(reference) => {
                asked_as = Some(key.reference.clone());
                key = OrderKey::new(key.tenant.clone(), reference);
            }
            Loaded::Nothing => {
                // An unsigned or second-hand word about an order we do not know proves nothing and is not kept.
                tracing::warn!(
                    order.tenant_id = %key.tenant, order.reference_id = %key.reference,
                    "a payment was hinted for an order that does not exist"
                );
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Asks about the refunds of an order because somebody unproven spoke of one: ours by name, and whatever the payment's own lookup
/// tells of.
async fn confirm_refund<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    key: OrderKey,
    hint: &RefundReport,
    ask: Askable<'_>,
) -> Result<(), ApplyError> {
    let order = match load(deps.store, &key).await? {
        Loaded::Order(order) => *order,
        Loaded::Alias(reference) => {
            let key = OrderKey::new(key.tenant, reference);
            match load(deps.store, &key).await? {
                Loaded::Order(order) => *order,
                Loaded::Alias(_) | Loaded::Nothing => return Ok(()),
            }
        }
        Loaded::Nothing => return Ok(()),
    };
    let event = Event::Refund {
        id: None,
        report: hint.clone(),
    };
    if is_known(&order, &event) {
        queue_owed(deps.queue, &order).await?;
        return Ok(());
    }
    let open: Vec<String> = order
        .refunds
        .list()
        .iter()
        .filter(|r| !r.state.is_final() && r.payment_id == hint.payment_id)
        .filter_map(|r| r.id.clone())
        .collect();
    let refunds = refund::Deps {
        store: deps.store,
        queue: deps.queue,
        http: deps.http,
        clock: deps.clock,
    };
    let mut order = order;
    for id in &open {
        match refund::look(&refunds, ask, order.clone(), id).await {
            Ok(after) => order = after,
            Err(error) => {
                tracing::warn!(order.reference_id = %order.key.reference, refund.id = id, "{error}");
            }
        }
    }
    if tells_nothing_new(&order, hint, &open) {
        return Ok(());
    }
    // None of ours: a dashboard's.
    match ask_about(deps.http, &order, ask, None, deps.clock.now()).await {
        Ok(found) => {
            let names = source_of(ask);
            apply_found(deps.store, deps.queue, deps.clock, order, found, names)
                .await
                .map(|_| ())
        }
        Err(error @ (CallError::Rejected { .. } | CallError::Unsupported(_))) => {
            report_unclear(&order, &error);
            Ok(())
        }
        Err(error) => Err(ApplyError::Lookup(error)),
    }
}

/// A hint about a refund is about one of ours, which is gone after until it is final, or about one whose news is known already. Where
/// the hint has no id, ours are asked about first.
fn tells_nothing_new(order: &Order, hint: &RefundReport, open: &[String]) -> bool {
    let Some(id) = &hint.id else {
        return !open.is_empty();
    };
    let is_news = hint.status != RefundStatus::Pending;
    order
        .refunds
        .list()
        .iter()
        .filter(|r| r.gateway_id.as_ref() == Some(id))
        .any(|r| r.id.is_some() || r.state.is_final() || !is_news)
}

enum Loaded {
    Order(Box<Order>),
    Alias(ReferenceId),
    Nothing,
}

async fn load<S: OrderStore>(store: &S, key: &OrderKey) -> Result<Loaded, StoreError> {
    Ok(match store.load(key).await? {
        Some(order) => Loaded::Order(Box::new(order)),
        None => match store.resolve(key).await? {
            Some(reference) => Loaded::Alias(reference),
            None => Loaded::Nothing,
        },
    })
}

fn source_of(ask: Askable<'_>) -> (&'static str, &'static str) {
    (ask.gateway.name(), ask.channel.name())
}

/// One line when nobody can say whether an order is paid; an alarm watches for it.
pub(crate) fn report_unclear(order: &Order, error: &CallError) {
    tracing::error!(
        event = "tenant_broken",
        order.tenant_id = %order.key.tenant,
        order.reference_id = %order.key.reference,
        "whether the order is paid cannot be found out: {error}"
    );
}

/// Asks whoever holds the money: the gateway for links and intents, the messaging provider for native checkout.
///
/// A provider that offers no such question (Exotel) leaves the gateway. There a native payment can only be looked for under the
/// reference of its message, and no gateway documents that WhatsApp hands it on as the gateway's own: Razorpay has no documented
/// search for it at all. So money that is found counts, and nothing found proves nothing: the order stays open, neither paid nor
/// expired, and the error says why. What closes such an order is the gateway's own signed webhook.
pub(crate) async fn ask_about<H: HttpSend>(
    http: &H,
    order: &Order,
    ask: Askable<'_>,
    asked_as: Option<&ReferenceId>,
    now: Millis,
) -> Result<Found, CallError> {
    if order.terms().gateway != ask.gateway.name() {
        // Another gateway that knows nothing of it would make a paid order look unpaid.
        return Err(CallError::Unsupported(
            "the order was made with another gateway than the tenant has now",
        ));
    }
    match order.terms().mode {
        PaymentMode::PaymentGateway => {
            let references = match asked_as {
                Some(reference) => vec![reference],
                None => every_sending(order),
            };
            ask_about_native(http, order, &references, ask, now).await
        }
        PaymentMode::PaymentLink | PaymentMode::UpiIntent => {
            let request = lookup_request(order, ask.gateway, now);
            converse(http, |answers| ask.gateway.lookup(&request, answers)).await
        }
    }
}

/// Native payments are known under the reference of the message they were made in, and a bill that was sent again can be paid in
/// any of its messages, even in two.
pub(crate) fn every_sending(order: &Order) -> Vec<&ReferenceId> {
    let resent = order.events.iter().rev().filter_map(|r| match &r.event {
        Event::Resend { reference, .. } => Some(reference),
        _ => None,
    });
    resent
        .chain(std::iter::once(&order.key.reference))
        .collect()
}

/// What one message's reference says about money counts although another could not be asked about.
async fn ask_about_native<H: HttpSend>(
    http: &H,
    order: &Order,
    references: &[&ReferenceId],
    ask: Askable<'_>,
    now: Millis,
) -> Result<Found, CallError> {
    let mut all = Found::default();
    let mut failure = None;
    for reference in references {
        let asked = converse(http, |answers| {
            ask.channel.lookup_payment(reference, answers)
        });
        let found = match asked.await {
            Err(CallError::Unsupported(why)) => {
                let request = LookupRequest {
                    reference: (*reference).clone(),
                    gateway_id: None,
                    ..lookup_request(order, ask.gateway, now)
                };
                let asked = converse(http, |answers| ask.gateway.lookup(&request, answers));
                match asked.await {
                    // Whether the gateway knows it under another name is not known, so a link that ended says nothing either.
                    Ok(found) if found.reports.is_empty() => Err(CallError::Unsupported(why)),
                    Ok(found) => Ok(Found {
                        closed: None,
                        ..found
                    }),
                    Err(error) => Err(error),
                }
            }
            asked => asked,
        };
        match found {
            Ok(found) => {
                all.reports.extend(found.reports);
                all.refunds.extend(found.refunds);
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let is_money = |r: &PaymentReport| r.status == AttemptStatus::Captured;
    match failure {
        Some(failure) if !all.reports.iter().any(is_money) => Err(failure),
        _ => Ok(all),
    }
}

/// Stores what a lookup found and queues what follows. Gives the order as it is then.
pub(crate) async fn apply_found<S: OrderStore, Q: Queue, C: Clock>(
    store: &S,
    queue: &Q,
    clock: &C,
    order: Order,
    found: Found,
    (gateway, channel): (&str, &str),
) -> Result<Order, ApplyError> {
    let by = if order.terms().mode == PaymentMode::PaymentGateway {
        channel
    } else {
        gateway
    };
    let mut order = order;
    let facts = found
        .reports
        .into_iter()
        .map(|report| (Once::payment(&report), Event::Payment(report)))
        .chain(
            found
                .closed
                .map(|reason| (closed_once(reason), Event::Closed { reason })),
        )
        .chain(
            found
                .refunds
                .into_iter()
                .map(|report| (Once::refund(&report), Event::Refund { id: None, report })),
        );
    for (once, event) in facts {
        if is_known(&order, &event) {
            continue;
        }
        let now = clock.now();
        let append = Append {
            once: Some(once),
            events: vec![Recorded::new(now, by, event)],
            expect: None,
            at_most: None,
            due: Due::At(now.plus_seconds(SOON)),
        };
        order = match store.append(&order.key, &append).await? {
            Appended::Done(order) => {
                report_new_holds(&order);
                order
            }
            Appended::Duplicate(order) | Appended::Stale(order) => order,
            Appended::Missing | Appended::Alias(_) => {
                return Err(StoreError::Corrupt(format!("{} vanished", order.key)).into());
            }
        };
    }
    queue_owed(queue, &order).await?;
    Ok(order)
}

/// A lookup tells the whole history again each time; what is known is not written again.
fn is_known(order: &Order, event: &Event) -> bool {
    match event {
        Event::Payment(report) => order.events.iter().any(|r| match &r.event {
            Event::Payment(known) => known.covers(report),
            _ => false,
        }),
        Event::Closed { .. } => !order.payment_status().is_open(),
        Event::Refund { report, .. } => order.events.iter().any(|r| match &r.event {
            Event::Refund { report: known, .. } => {
                known.status == report.status
                    && known.amount == report.amount
                    && known.payment_id == report.payment_id
                    && (known.id == report.id && (known.id.is_some() || known.name == report.name))
            }
            _ => false,
        }),
        _ => false,
    }
}

async fn message_report<S: OrderStore, Q: Queue, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    tenant: &TenantId,
    source: &str,
    tag: Tag,
    report: Report,
) -> Result<(), ApplyError> {
    let key = OrderKey::new(tenant.clone(), tag.reference.clone());
    let now = deps.clock.now();
    let once = Once::report(&tag.message, tag.attempt, &report);
    let failed = match &report {
        Report::Failed(failure) => Some(failure.code.clone()),
        Report::Progress(_) => None,
    };
    let event = Event::Report {
        message: tag.message.clone(),
        attempt: tag.attempt,
        report,
    };
    let append = Append {
        once: Some(once),
        events: vec![Recorded::new(now, source, event)],
        expect: None,
        at_most: None,
        due: if failed.is_some() {
            Due::At(now.plus_seconds(SOON))
        } else {
            Due::Keep
        },
    };
    let order = match deps.store.append(&key, &append).await? {
        Appended::Done(order) | Appended::Duplicate(order) | Appended::Stale(order) => order,
        Appended::Missing | Appended::Alias(_) => {
            tracing::warn!(
                order.tenant_id = %key.tenant, order.reference_id = %key.reference,
                "a delivery report names an order that does not exist"
            );
            return Ok(());
        }
    };
    if let Some(code) = failed {
        // Also when it came before: whoever stored it may have died before anybody was told.
        if order
            .message(&tag.message)
            .is_some_and(|m| m.status == MessageStatus::Failed)
        {
            report_given_up(&order, &tag.message, &code);
        }
        queue_owed(deps.queue, &order).await?;
    } else if order.due.is_some() && order.next_check(now).is_none() {
        // The last open work is done: the order leaves the due index. If somebody wrote meanwhile, they take care of it.
        deps.store
            .reschedule(&key, Some(order.events.len()), Due::Never, 0)
            .await?;
    }
    Ok(())
}
