//! Applies what a verified webhook says. A 2xx may be answered only when this returns `Ok`: then every effect is stored and
//! every message that follows from it is queued, or was before.
//!
//! Round trips per signal: store, queue (only when a message follows); a hint asks the holder of the money in between.

use crate::connector::{Channel, Gateway, Gateways, Notice, Signal, Trust, Wish};
use crate::contact::Msisdn;
use crate::event::{Event, Once, Recorded};
use crate::flows::{lookup_request, queue_owed, refund, report_given_up, report_new_holds};
use crate::http::{CallError, converse};
use crate::ids::{OrderKey, ReferenceId, TenantId, UserId};
use crate::message::{Report, Tag};
use crate::order::{MOST_REPORTED, MessageStatus, Order};
use crate::payment::{
    AttemptStatus, Closed, Found, LookupRequest, PaymentMode, PaymentReport, RefundReport,
    RefundStatus,
};
use crate::ports::{
    Append, Appended, Clock, Contact, Contacts, Due, HiddenContact, HttpSend, OrderStore, Queue,
    QueueError, StoreError,
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
    /// The tenant's gateway accounts.
    pub gateways: &'a Gateways,
    /// The tenant's messaging provider, which knows of payments made natively inside WhatsApp.
    pub channel: &'a dyn Channel,
}

impl<'a> Askable<'a> {
    /// The account the order was made with; the current one where the tenant has none like it any more.
    #[must_use]
    pub fn gateway(&self, order: &Order) -> &'a dyn Gateway {
        self.gateways
            .of(order.terms())
            .unwrap_or_else(|| self.gateways.current())
    }

    /// The tenant still has an account at the gateway the order was made with.
    #[must_use]
    pub fn knows(&self, order: &Order) -> bool {
        self.gateways.of(order.terms()).is_some()
    }
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
        let is_money = is_money(&signal);
        if let Err(error) = apply_signal(deps, tenant, source, signal, ask).await {
            if let ApplyError::Store(StoreError::Full(why)) = &error {
                tracing::error!(
                    event = "order_full",
                    order.tenant_id = %tenant,
                    webhook.source = source,
                    "what a webhook says finds no room: {why}"
                );
                if !is_money {
                    // Coming again would find no more room.
                    continue;
                }
            }
            tracing::warn!(error = %error, "a webhook could not be applied and will come again");
            failure = failure.or(Some(error));
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Whether money is lost when this is.
fn is_money(signal: &Signal) -> bool {
    match signal {
        Signal::Payment { report, .. } => report.status.moves_money(),
        Signal::Refund { .. } => true,
        _ => false,
    }
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
        Signal::Foreign(what) => {
            tracing::info!(
                event = "webhook_foreign",
                webhook.source = source,
                order.tenant_id = %tenant,
                "not ours: {what}"
            );
            Ok(())
        }
        Signal::Noticed(notice, what) => {
            count(tenant, source, notice, &what);
            Ok(())
        }
        Signal::Payment {
            reference,
            report,
            trust,
        } => {
            let key = OrderKey::new(tenant.clone(), reference);
            let fact = Fact {
                once: Once::payment(&report),
                payment_id: Some(report.payment_id.clone()),
                recorded: Recorded::new(deps.clock.now(), source, Event::Payment(report.clone())),
            };
            match trust {
                Trust::Proven => store_fact(deps, key, fact).await,
                Trust::OwnLink(id) => match of_link(deps, key, &id).await? {
                    OfLink::Ours(key) => store_fact(deps, key, fact).await,
                    OfLink::NotYet(key) => keep_hint(deps, &key, &report.payment_id, source).await,
                    OfLink::Nowhere(key) => park(deps, &key, &report.payment_id, source)
                        .await
                        .map(|_| ())
                        .map_err(ApplyError::from),
                    OfLink::Another(key) => confirm(deps, key, &report, ask).await,
                },
                Trust::Hint => confirm(deps, key, &report, ask).await,
            }
        }
        Signal::LinkClosed {
            reference,
            reason,
            trust,
        } => {
            let mut key = OrderKey::new(tenant.clone(), reference);
            if let Trust::OwnLink(id) = &trust {
                // Of a link that is not ours, or not known to be ours yet, the end says nothing; a lookup tells of our own.
                let OfLink::Ours(ours) = of_link(deps, key, id).await? else {
                    return Ok(());
                };
                key = ours;
            }
            if trust == Trust::Hint {
                return Ok(());
            }
            // Our orders exist before their links do: the end of another link says nothing about a bill to come.
            let fact = Fact {
                once: closed_once(reason),
                payment_id: None,
                recorded: Recorded::new(deps.clock.now(), source, Event::Closed { reason }),
            };
            store_fact(deps, key, fact).await
        }
        Signal::Refund {
            reference,
            report,
            trust,
        } => {
            let mut key = OrderKey::new(tenant.clone(), reference);
            if let Trust::OwnLink(id) = &trust {
                match of_link(deps, key, id).await? {
                    OfLink::Ours(ours) => key = ours,
                    OfLink::NotYet(key) => {
                        return keep_hint(deps, &key, &report.payment_id, source).await;
                    }
                    OfLink::Nowhere(key) => {
                        park(deps, &key, &report.payment_id, source).await?;
                        return Ok(());
                    }
                    OfLink::Another(key) => return confirm_refund(deps, key, &report, ask).await,
                }
            }
            if trust == Trust::Hint {
                return confirm_refund(deps, key, &report, ask).await;
            }
            if report.status == RefundStatus::Failed {
                tracing::error!(
                    event = "refund_failed",
                    order.tenant_id = %key.tenant, order.reference_id = %key.reference,
                    "the gateway gave up a refund"
                );
            }
            let fact = Fact {
                once: Once::refund(&report),
                payment_id: Some(report.payment_id.clone()),
                recorded: Recorded::new(
                    deps.clock.now(),
                    source,
                    Event::Refund { id: None, report },
                ),
            };
            store_fact(deps, key, fact).await
        }
        Signal::Inbound { phone, at, wish } => {
            let contact = Contact {
                tenant: tenant.clone(),
                phone,
            };
            let at = at.unwrap_or_else(|| deps.clock.now());
            inbound(deps.store, &contact, at, wish).await
        }
        Signal::InboundHidden { user, at, wish } => {
            let hidden = HiddenContact {
                tenant: tenant.clone(),
                user,
            };
            let at = at.unwrap_or_else(|| deps.clock.now());
            inbound_hidden(deps.store, &hidden, at, wish).await
        }
        Signal::Renamed { before, now } => renamed(deps.store, tenant, before, now).await,
        Signal::Elsewhere { what, .. } => {
            tracing::warn!(
                event = "report_for_other_number",
                webhook.source = source,
                tenant_id = %tenant,
                "{what} about another number of the account, and no tenant here is known to have it"
            );
            Ok(())
        }
        Signal::Message { tag, report, user } => {
            message_report(deps, tenant, source, tag, report, user).await
        }
    }
}

fn unplaced(tenant: &TenantId, why: &str) {
    tracing::warn!(
        event = "customer_wish_unplaced",
        tenant_id = %tenant,
        "a customer asked for messages to stop or to start again, and nobody knows who they are: {why}"
    );
}

/// Says what cannot be acted on in a way that can be counted.
fn count(tenant: &TenantId, source: &str, notice: Notice, what: &str) {
    match notice {
        Notice::DeliveryWord => tracing::warn!(
            event = "delivery_word_unknown",
            webhook.source = source,
            tenant_id = %tenant,
            "a delivery report says what nobody here understands: {what}"
        ),
        Notice::WishUnplaced => unplaced(tenant, what),
        Notice::Unreadable => tracing::error!(
            event = "webhook_unreadable",
            webhook.source = source,
            tenant_id = %tenant,
            "a part of a webhook cannot be read: {what}"
        ),
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

/// A customer wrote whose number is hidden. What they asked for is kept under their id too: it counts as soon as a delivery report tells
/// whose id that is.
async fn inbound_hidden<S: Contacts>(
    store: &S,
    hidden: &HiddenContact,
    at: Millis,
    wish: Option<Wish>,
) -> Result<(), ApplyError> {
    let phone = match wish {
        Some(wish) => store.hidden_wish(hidden, wish, at).await?,
        None => store.whose(hidden).await?,
    };
    let Some(phone) = phone else {
        if wish.is_some() {
            unplaced(
                &hidden.tenant,
                "no delivery report has told yet whose id it is",
            );
        }
        return Ok(());
    };
    let contact = Contact {
        tenant: hidden.tenant.clone(),
        phone,
    };
    inbound(store, &contact, at, wish).await
}

async fn renamed<S: Contacts>(
    store: &S,
    tenant: &TenantId,
    before: UserId,
    now: UserId,
) -> Result<(), ApplyError> {
    let named = |user| HiddenContact {
        tenant: tenant.clone(),
        user,
    };
    if let Some(phone) = store.whose(&named(before)).await? {
        met(store, &named(now), phone).await?;
    }
    Ok(())
}

/// The provider told whose id it is.
async fn met<S: Contacts>(
    store: &S,
    hidden: &HiddenContact,
    phone: Msisdn,
) -> Result<(), ApplyError> {
    if let Some((wish, at)) = store.meet(hidden, &phone).await? {
        let contact = Contact {
            tenant: hidden.tenant.clone(),
            phone,
        };
        store.wish(&contact, wish, at).await?;
    }
    Ok(())
}

/// Whether this report is the one that a customer's id is learnt from: the first about an order, or one that came before and whose
/// sender may not have been told. The number must be the one the message went to; after a correction nobody can say.
fn teaches(appended: &Appended) -> bool {
    let is_report = |recorded: &&Recorded| matches!(recorded.event, Event::Report { .. });
    match appended {
        Appended::Done(order) => order.events.iter().filter(is_report).count() == 1,
        Appended::Duplicate(_) | Appended::Stale(_) => true,
        Appended::Missing | Appended::Alias(_) => false,
    }
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

/// What a webhook proved about an order.
struct Fact {
    once: Once,
    /// The payment it is about. It is what is remembered where there is no such order yet; without one, nothing is.
    payment_id: Option<String>,
    recorded: Recorded,
}

/// Stores one fact about an order and queues what follows from it. Where there is no such order yet, a hint is kept: money that came
/// before its bill is nobody's, and the bill's own link will tell.
async fn store_fact<S: OrderStore, Q: Queue, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    mut key: OrderKey,
    fact: Fact,
) -> Result<(), ApplyError> {
    let Fact {
        once,
        payment_id,
        recorded,
    } = fact;
    let source = recorded.by.clone();
    let due = Due::At(recorded.at.plus_seconds(SOON));
    // An alias leads to its order, an order is no alias, and an order that appears in between stays: three steps are enough.
    for _ in 0..3 {
        let stored = append_fact(deps.store, &key, once.clone(), recorded.clone(), due).await?;
        match stored {
            Stored::Order(order) => {
                queue_owed(deps.queue, &order).await?;
                return Ok(());
            }
            Stored::Alias(reference) => key = OrderKey::new(key.tenant.clone(), reference),
            Stored::Nothing => {
                let Some(payment_id) = &payment_id else {
                    return Ok(());
                };
                match park(deps, &key, payment_id, &source).await? {
                    Appended::Missing => return Ok(()),
                    Appended::Alias(reference) => {
                        key = OrderKey::new(key.tenant.clone(), reference);
                    }
                    // The order appeared in between, and takes the fact itself.
                    Appended::Done(_) | Appended::Duplicate(_) | Appended::Stale(_) => {}
                }
            }
        }
    }
    Err(StoreError::Corrupt(format!("{key} is an alias of an alias")).into())
}

/// Where a fact went.
enum Stored {
    Order(Box<Order>),
    Alias(ReferenceId),
    Nothing,
}

/// Writes one fact down.
async fn append_fact<S: OrderStore>(
    store: &S,
    key: &OrderKey,
    once: Once,
    recorded: Recorded,
    due: Due,
) -> Result<Stored, StoreError> {
    let append = Append {
        once: Some(once),
        at_most: (!recorded.event.is_about_money()).then_some(MOST_REPORTED),
        events: vec![recorded],
        expect: None,
        due,
    };
    Ok(match store.append(key, &append).await? {
        Appended::Done(order) => {
            report_new_holds(&order);
            Stored::Order(Box::new(order))
        }
        // Came before, or tells of one attempt too many that took no money. The sender repeats because our answer was lost, perhaps
        // after a crash between store and queue.
        Appended::Duplicate(order) | Appended::Stale(order) => Stored::Order(Box::new(order)),
        Appended::Alias(reference) => Stored::Alias(reference),
        Appended::Missing => Stored::Nothing,
    })
}

/// Keeps a hint under a name that may become an order's.
async fn park<S: OrderStore, Q, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    key: &OrderKey,
    payment_id: &str,
    source: &str,
) -> Result<Appended, StoreError> {
    let now = deps.clock.now();
    let hint = Event::Hint {
        payment_id: payment_id.to_owned(),
    };
    let events = [Recorded::new(now, source, hint)];
    let kept = deps
        .store
        .park(key, &Once::hint(payment_id), &events, now)
        .await?;
    if matches!(kept, Appended::Missing) {
        tracing::warn!(
            event = "webhook_parked",
            order.tenant_id = %key.tenant, order.reference_id = %key.reference,
            "there is no such order yet; a hint is kept for 30 days"
        );
    }
    Ok(kept)
}

/// Whose link a webhook speaks of.
enum OfLink {
    /// The one this order was given.
    Ours(OrderKey),
    /// The order has no link yet.
    NotYet(OrderKey),
    /// There is no such order yet.
    Nowhere(OrderKey),
    /// Some other link with our number on it.
    Another(OrderKey),
}

/// Compares a link's id with the one the order was given.
async fn of_link<S: OrderStore, Q, H, C>(
    deps: &Deps<'_, S, Q, H, C>,
    key: OrderKey,
    id: &str,
) -> Result<OfLink, StoreError> {
    let (order, key) = match load(deps.store, &key).await? {
        Loaded::Order(order) => (Some(order), key),
        Loaded::Alias(reference) => {
            let key = OrderKey::new(key.tenant, reference);
            (deps.store.load(&key).await?.map(Box::new), key)
        }
        Loaded::Nothing => (None, key),
    };
    Ok(match order.as_ref().map(|order| (order, &order.started)) {
        Some((_, Some(started))) if started.id == id => OfLink::Ours(key),
        Some((_, Some(_))) => OfLink::Another(key),
        // A bill that is paid inside WhatsApp never has a link, so this one is not its own.
        Some((order, None)) if order.is_ready() => OfLink::Another(key),
        Some((_, None)) => OfLink::NotYet(key),
        None => OfLink::Nowhere(key),
    })
}

/// Remembers that somebody spoke of a payment: the order's own link is asked as soon as there is one.
async fn keep_hint<S: OrderStore, Q: Queue, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    key: &OrderKey,
    payment_id: &str,
    source: &str,
) -> Result<(), ApplyError> {
    let now = deps.clock.now();
    let hint = Event::Hint {
        payment_id: payment_id.to_owned(),
    };
    let append = Append {
        once: Some(Once::hint(payment_id)),
        events: vec![Recorded::new(now, source, hint)],
        expect: None,
        at_most: Some(MOST_HINTED),
        due: Due::At(now.plus_seconds(START)),
    };
    deps.store.append(key, &append).await?;
    Ok(())
}

/// An order with this many events takes no more hints: who makes links on the same account must not fill it.
const MOST_HINTED: usize = 60;
/// An order without a link is looked at again this soon when somebody spoke of its payment, seconds.
const START: i64 = 60;

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
                let names = source_of(ask, &order);
                return apply_found(deps.store, deps.queue, deps.clock, *order, found, names)
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
            let names = source_of(ask, &order);
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

pub(crate) fn source_of(ask: Askable<'_>, order: &Order) -> (&'static str, &'static str) {
    (ask.gateway(order).name(), ask.channel.name())
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
    if !ask.knows(order) {
        // Another gateway that knows nothing of it would make a paid order look unpaid.
        return Err(CallError::Unsupported(
            "the order was made with a gateway that the tenant's document does not have any more",
        ));
    }
    let gateway = ask.gateway(order);
    match order.terms().mode {
        PaymentMode::PaymentGateway => {
            let references = match asked_as {
                Some(reference) => vec![reference],
                None => every_sending(order),
            };
            ask_about_native(http, order, &references, ask, now).await
        }
        PaymentMode::PaymentLink | PaymentMode::UpiIntent => {
            let request = lookup_request(order, gateway, now);
            converse(http, |answers| gateway.lookup(&request, answers)).await
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
    let gateway = ask.gateway(order);
    let moved = order.terms().provider != ask.channel.name();
    for reference in references {
        let asked = converse(http, |answers| {
            ask.channel.lookup_payment(reference, answers)
        });
        let found = match asked.await {
            // It knows of later messages at most; that it knows of no payment proves nothing.
            Ok(found) if moved && found.reports.is_empty() => Err(CallError::Unsupported(
                "the bill was sent through another provider than the tenant has now",
            )),
            asked => asked,
        };
        let found = match found {
            Err(CallError::Unsupported(why)) => {
                let request = LookupRequest {
                    reference: (*reference).clone(),
                    gateway_id: None,
                    ..lookup_request(order, gateway, now)
                };
                let asked = converse(http, |answers| gateway.lookup(&request, answers));
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
        let recorded = Recorded::new(now, by, event);
        let due = Due::At(now.plus_seconds(SOON));
        order = match append_fact(store, &order.key, once, recorded, due).await? {
            Stored::Order(order) => *order,
            Stored::Nothing | Stored::Alias(_) => {
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

async fn message_report<S: OrderStore + Contacts, Q: Queue, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    tenant: &TenantId,
    source: &str,
    tag: Tag,
    report: Report,
    user: Option<UserId>,
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
        at_most: Some(MOST_REPORTED),
        due: if failed.is_some() {
            Due::At(now.plus_seconds(SOON))
        } else {
            Due::Keep
        },
    };
    let appended = deps.store.append(&key, &append).await?;
    let teaches = teaches(&appended);
    let order = match appended {
        Appended::Done(order) | Appended::Duplicate(order) | Appended::Stale(order) => order,
        Appended::Missing | Appended::Alias(_) => {
            tracing::warn!(
                order.tenant_id = %key.tenant, order.reference_id = %key.reference,
                "a delivery report names an order that does not exist"
            );
            return Ok(());
        }
    };
    if let Some(user) = user
        && teaches
        && order.phone == order.bill().customer.phone
    {
        let hidden = HiddenContact {
            tenant: tenant.clone(),
            user,
        };
        met(deps.store, &hidden, order.phone.clone()).await?;
    }
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
