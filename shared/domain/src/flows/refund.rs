//! Gives money back. What is asked for is stored first and counts only if it fits what is left (see [`crate::refund`]); then the gateway
//! is asked, and its answer stored. What could never fit is not even stored, so the order is read before.
//!
//! Round trips: store twice, gateway, store; one more to the queue when the money went back at once and the customer is told.
//!
//! A call whose answer is lost is never repeated blindly: the gateway is asked what it did, and only when it knows of nothing, ten
//! minutes later, is it asked for the refund again, under the same token.

use crate::connector::{Channel, Gateway};
use crate::event::{Event, Once, Recorded, RefundOutcome};
use crate::fault::Fault;
use crate::flows::apply_webhook::{Askable, every_sending};
use crate::flows::{queue_owed, record, report_new_holds};
use crate::http::{CallError, Obstacle, converse};
use crate::ids::OrderKey;
use crate::money::Paise;
use crate::order::{Order, REFUND_PATIENCE, send_back_id};
use crate::payment::{PaymentMode, RefundReport, RefundRequest, RefundStatus, Speed};
use crate::ports::{
    Append, Appended, Clock, Due, HttpSend, OrderStore, Queue, QueueError, StoreError,
};
use crate::refund::{self, Ask, MOST_REFUNDS, Refund, RefundState, Void};
use crate::time::Millis;

/// What the use case works with.
pub struct Deps<'a, S, Q, H, C> {
    /// Orders.
    pub store: &'a S,
    /// Work for `send-status`.
    pub queue: &'a Q,
    /// Calls to the gateway.
    pub http: &'a H,
    /// Time.
    pub clock: &'a C,
}

/// Why nothing is refunded.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// Nothing was paid, or not by this payment.
    #[error("nothing was paid that could be refunded")]
    NotPaid,
    /// More than is left.
    #[error("more than is left to refund")]
    Exceeds {
        /// What is left.
        left: Paise,
    },
    /// The order has had so many refunds, or so many asks in all, that it takes no more.
    #[error("the order has had too many refunds")]
    TooMany,
    /// Another refund has this name.
    #[error("another refund has this refund_id")]
    Conflict,
    /// A part of a payment is asked back under no name: sent twice, it would be two refunds.
    #[error("a part of a payment is refunded under a name only")]
    Unnamed,
    /// The gateway would refuse it; nothing was asked.
    #[error("the gateway would refuse this refund")]
    Impossible(Vec<Fault>),
    /// The gateway refused.
    #[error("the gateway refused: {code}")]
    Refused {
        /// Its code.
        code: String,
        /// Its words.
        detail: String,
    },
    /// The gateway could not be asked what became of it; that is tried again later.
    #[error("the gateway could not be asked: {0}")]
    Unanswered(CallError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed; `reconcile` queues the message.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl RefundError {
    /// A refusal as an order keeps it: code and words.
    fn of_refusal(error: &str) -> Self {
        let (code, detail) = error.split_once(": ").unwrap_or((error, ""));
        Self::Refused {
            code: code.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// A gateway that has been asked so often in vain is not asked again. Certainly not done, it fails; not known, a person decides.
const MOST_TRIES: u32 = 16;
/// One that waits for the shop's balance is asked for as long as a topping up may take: ten days, most of them every six hours.
const MOST_TRIES_NOT_NOW: u32 = 48;
/// A till's own request asks for such a refund again after this at the earliest, seconds; after [`MOST_TRIES`] only time does.
const TOP_UP_PAUSE: i64 = 60;
/// A refund takes a bank five to seven working days; after this it is worth a look. Seconds.
const LONGEST_PENDING: i64 = 10 * 24 * 3600;
/// A gateway that knows of no refund this long after the call was lost never got it. Seconds.
const NEVER_ARRIVED: i64 = 600;

/// What became of a request.
#[derive(Debug)]
pub struct Refunded {
    /// The order as it is then.
    pub order: Order,
    /// The refund's name: the request's own, or the one it was given.
    pub id: String,
    /// It was not asked for before.
    pub new: bool,
}

/// Refunds, or answers what became of the refund of this name. Without a name it has to be all of the payment, which names itself.
pub async fn refund<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    key: &OrderKey,
    name: Option<&str>,
    wanted: Ask,
    by: &str,
) -> Result<Refunded, RefundError> {
    let order = deps.store.load(key).await?.ok_or(RefundError::NotFound)?;
    let id = match name {
        Some(name) => name.to_owned(),
        None => name_of_the_whole(&order, &wanted)?,
    };
    let (order, new) = write_ask(deps, ask, order, &id, &wanted, by, Asking::Shop).await?;
    let order = if new {
        carry_out(deps, ask, order, &id, by).await?
    } else {
        known(deps, ask, order, &id, &wanted, name.is_some()).await?
    };
    Ok(Refunded { order, id, new })
}

/// Sends back what the terms send back. Whatever stands against it is written down: the money then waits for a person.
pub async fn send_back<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: &Order,
    payment_id: &str,
) -> Result<Order, RefundError> {
    let wanted = Ask {
        amount: None,
        payment_id: Some(payment_id.to_owned()),
        speed: Speed::Normal,
        reason: Some("late or double payment".to_owned()),
    };
    let id = send_back_id(payment_id);
    let by = "reconcile";
    let asked = write_ask(deps, ask, order.clone(), &id, &wanted, by, Asking::Terms).await?;
    let sent = match asked {
        (order, true) => carry_out(deps, ask, order, &id, by).await,
        (order, false) => known(deps, ask, order, &id, &wanted, true).await,
    };
    if matches!(sent, Err(RefundError::TooMany)) {
        log_refund(order, &id, "refund_failed", "the order takes no more asks");
    }
    sent
}

/// The name of a refund of a whole payment, the same each time, so that repeating the request is repeating the refund. One that failed
/// is behind us, and so is one whose payment has money left again because another failed: then it is the next one.
fn name_of_the_whole(order: &Order, wanted: &Ask) -> Result<String, RefundError> {
    let paying = order.payment().map(|(id, _)| id);
    let all = wanted
        .payment_id
        .as_deref()
        .or(paying)
        .and_then(|id| order.refundable(id).map(|all| (id, all)));
    let Some((payment_id, all)) = all else {
        return Err(if wanted.amount.is_some() {
            RefundError::Unnamed
        } else {
            RefundError::NotPaid
        });
    };
    // Asking for the fee back, too, is no part: it is too much.
    let is_part = |amount: Paise| amount != all && Some(amount) != order.taken(payment_id);
    if wanted.amount.is_some_and(is_part) {
        return Err(RefundError::Unnamed);
    }
    let is_all_gone = order.refunds.reserved(Some(payment_id)) >= all;
    let mut latest = None;
    for number in 1..=MOST_REFUNDS.saturating_add(1) {
        let name = refund::whole_name(&order.key, payment_id, number);
        match (order.refunds.find(&name), order.refunds.voided(&name)) {
            (Some(refund), _) if refund.counts() => latest = Some(name),
            (Some(_), _) | (None, Some(_)) => {}
            (None, None) => {
                return Ok(latest
                    .filter(|_| is_all_gone || wanted.amount.is_some())
                    .unwrap_or(name));
            }
        }
    }
    Err(RefundError::TooMany)
}

/// Whether this refund could be made as the order stands. What never could is refused before anything is written; what two tills ask
/// for at once is decided by the sequence of what is.
fn could_be<S, Q, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: &Order,
    id: &str,
    wanted: &Ask,
    by: &str,
) -> Result<(), RefundError> {
    let now = deps.clock.now();
    if !order.takes_asks() {
        return Err(RefundError::TooMany);
    }
    let after = order.with(Recorded::new(now, by, asked(id, wanted)));
    if let Some((_, void)) = after.refunds.voided(id) {
        return Err(voided(void));
    }
    if let Some(error) = moved(ask, order) {
        return Err(RefundError::of_refusal(error));
    }
    let faults = after
        .refunds
        .find(id)
        .map(|refund| payer(ask, &after).check(&request(&after, refund, ask.gateway(order), now)))
        .unwrap_or_default();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(RefundError::Impossible(faults))
    }
}

fn asked(id: &str, wanted: &Ask) -> Event {
    Event::RefundAsked {
        id: id.to_owned(),
        amount: wanted.amount,
        payment_id: wanted.payment_id.clone(),
        speed: wanted.speed,
        reason: wanted.reason.clone(),
    }
}

/// Who wants money to go back. What the terms send back is no ask of the shop's, and a person must see it written that it cannot go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Shop,
    Terms,
}

/// How often an ask is judged anew when somebody else wrote first.
const TRIES: usize = 4;

/// Writes an ask down, `true`, or finds it written. One that could never be made, or is one too many of the shop's, is refused before
/// anything is written.
async fn write_ask<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    mut order: Order,
    id: &str,
    wanted: &Ask,
    by: &str,
    asking: Asking,
) -> Result<(Order, bool), RefundError> {
    let now = deps.clock.now();
    let key = order.key.clone();
    let mut append = Append {
        once: Some(Once::refund_asked(id)),
        events: vec![Recorded::new(now, by, asked(id, wanted))],
        expect: None,
        at_most: None,
        due: Due::At(now.plus_seconds(REFUND_PATIENCE)),
    };
    for attempt in 1..=TRIES {
        if order.refunds.voided(id).is_some() || order.refunds.find(id).is_some() {
            return Ok((order, false));
        }
        if asking == Asking::Shop {
            could_be(deps, ask, &order, id, wanted, by)?;
        }
        // An order that never stands still is written to all the same: whether the ask is void is then told by its place.
        append.expect = (attempt < TRIES).then_some(order.events.len());
        match deps.store.append(&key, &append).await? {
            Appended::Done(order) => return Ok((order, true)),
            Appended::Duplicate(order) => return Ok((order, false)),
            Appended::Stale(current) => order = current,
            Appended::Missing | Appended::Alias(_) => return Err(RefundError::NotFound),
        }
    }
    Ok((order, false))
}

/// Asks the gateway for a refund that was just written down, unless it is void in the sequence of what was written.
async fn carry_out<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
    by: &str,
) -> Result<Order, RefundError> {
    if let Some((_, void)) = order.refunds.voided(id) {
        return Err(voided(void));
    }
    let Some(found) = order.refunds.find(id) else {
        return Err(vanished(&order.key));
    };
    let request = request(&order, found, ask.gateway(&order), deps.clock.now());
    let faults = payer(ask, &order).check(&request);
    if !faults.is_empty() {
        let codes: Vec<&str> = faults.iter().map(|f| f.code).collect();
        let ended = Ended::new(RefundOutcome::Refused, codes.join(", "));
        end(deps, &order, id, ended, by).await?;
        return Err(RefundError::Impossible(faults));
    }
    let order = call(deps, ask, order, id).await?;
    queue_owed(deps.queue, &order).await?;
    refused(&order, id)?;
    Ok(order)
}

fn vanished(key: &OrderKey) -> RefundError {
    StoreError::Corrupt(format!("{key}: a refund vanished")).into()
}

/// A request for a refund that was asked for before: the same words are answered with what became of it.
async fn known<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
    wanted: &Ask,
    is_named: bool,
) -> Result<Order, RefundError> {
    if let Some((said, void)) = order.refunds.voided(id) {
        return Err(if said == wanted {
            voided(void)
        } else {
            RefundError::Conflict
        });
    }
    let Some(found) = order.refunds.find(id) else {
        return Err(vanished(&order.key));
    };
    if !is_the_same(&order, found, wanted) {
        if is_named {
            return Err(RefundError::Conflict);
        }
        // Who gave no name is told what keeps another refund from being made.
        let reserved = order.refunds.reserved(Some(&found.payment_id));
        let all = order.refundable(&found.payment_id).unwrap_or(Paise::ZERO);
        let left = all.checked_sub(reserved).unwrap_or(Paise::ZERO);
        return Err(RefundError::Exceeds { left });
    }
    repeated(deps, ask, order, id).await
}

/// The same name with other words is a conflict. That all of a payment may be said with or without its amount, and the payment that
/// pays the order with or without its id, makes no other words.
fn is_the_same(order: &Order, found: &Refund, wanted: &Ask) -> bool {
    let Some(said) = &found.ask else {
        return false;
    };
    let amount = match (said.amount, wanted.amount) {
        (None, Some(wanted)) => wanted == found.amount,
        (Some(said), None) => order.refundable(&found.payment_id) == Some(said),
        (said, wanted) => said == wanted,
    };
    let paying = || order.payment().map(|(id, _)| id);
    let payment = match (said.payment_id.as_deref(), wanted.payment_id.as_deref()) {
        (None, Some(wanted)) => wanted == found.payment_id,
        (Some(said), None) => Some(said) == paying(),
        (said, wanted) => said == wanted,
    };
    amount && payment && said.speed == wanted.speed && said.reason == wanted.reason
}

fn voided(void: Void) -> RefundError {
    match void {
        Void::NotPaid => RefundError::NotPaid,
        Void::Exceeds(left) => RefundError::Exceeds { left },
        Void::TooMany => RefundError::TooMany,
    }
}

/// The same request again: its answer was lost on the way to the till, or the till wants to know how it stands.
async fn repeated<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
) -> Result<Order, RefundError> {
    queue_owed(deps.queue, &order).await?;
    let now = deps.clock.now();
    // Whoever asks again after topping up the balance is not put off until the next look.
    let topped_up = order.refunds.find(id).is_some_and(|r| {
        r.state == RefundState::Waiting
            && r.obstacle().is_some()
            && r.attempts < MOST_TRIES
            && now.seconds_since(r.tried_at) >= TOP_UP_PAUSE
    });
    if topped_up || order.refunds_due(now).any(|r| r.id.as_deref() == Some(id)) {
        // Whoever asked first has died or given up by now.
        let (order, _) = pursue(deps, ask, order, id).await;
        refused(&order, id)?;
        return Ok(order);
    }
    refused(&order, id)?;
    Ok(order)
}

/// A refund the gateway refused is an error to whoever asks for it, the first time and every time.
fn refused(order: &Order, id: &str) -> Result<(), RefundError> {
    match order.refunds.find(id) {
        Some(r) if r.state == RefundState::Failed && r.gateway_id.is_none() => Err(
            RefundError::of_refusal(r.error.as_deref().unwrap_or_default()),
        ),
        _ => Ok(()),
    }
}

/// Who gives the money back: the messaging provider for native payments where it has a call for it, else the gateway.
enum Payer<'a> {
    Gateway(&'a dyn Gateway),
    Channel(&'a dyn Channel),
}

/// Always the same one for the same order: were it chosen anew for each try, a refund whose answer was lost at one could be made by
/// the other.
fn payer<'a>(ask: Askable<'a>, order: &Order) -> Payer<'a> {
    if order.terms().mode == PaymentMode::PaymentGateway && ask.channel.gives_back() {
        Payer::Channel(ask.channel)
    } else {
        Payer::Gateway(ask.gateway(order))
    }
}

/// The vendors an order was made with, if the tenant still has them.
fn moved(ask: Askable<'_>, order: &Order) -> Option<&'static str> {
    let native = order.terms().mode == PaymentMode::PaymentGateway;
    if !ask.knows(order) {
        Some(
            "gateway_changed: the order was paid at a gateway that the tenant's document does not have any more",
        )
    } else if native && order.terms().provider != ask.channel.name() {
        Some(
            "provider_changed: the order was paid through another provider than the tenant has now",
        )
    } else {
        None
    }
}

impl Payer<'_> {
    fn check(&self, request: &RefundRequest) -> Vec<Fault> {
        match self {
            Self::Gateway(gateway) => gateway.check_refund(request),
            Self::Channel(channel) => channel.check_refund(request),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Gateway(gateway) => gateway.name(),
            Self::Channel(channel) => channel.name(),
        }
    }

    /// A bill that was sent again inside WhatsApp may have been paid in any of its messages, and providers know a payment by its
    /// message's reference: those that say "not this one" are passed over.
    async fn refund<H: HttpSend>(
        &self,
        http: &H,
        order: &Order,
        request: &RefundRequest,
    ) -> Result<RefundReport, CallError> {
        let channel = match self {
            Self::Gateway(gateway) => {
                return converse(http, |a| gateway.refund(request, a)).await;
            }
            Self::Channel(channel) => channel,
        };
        let mut refused = None;
        for request in in_every_message(order, request) {
            match converse(http, |a| channel.refund(&request, a)).await {
                Err(error) if is_of_another_message(&error) => refused = refused.or(Some(error)),
                ended => return ended,
            }
        }
        Err(refused.unwrap_or(CallError::Unsupported("the order has no message")))
    }

    async fn lookup<H: HttpSend>(
        &self,
        http: &H,
        order: &Order,
        request: &RefundRequest,
    ) -> Result<Option<RefundReport>, CallError> {
        let channel = match self {
            Self::Gateway(gateway) => {
                return converse(http, |a| gateway.lookup_refund(request, a)).await;
            }
            Self::Channel(channel) => channel,
        };
        let mut failed = None;
        for request in in_every_message(order, request) {
            match converse(http, |a| channel.lookup_refund(&request, a)).await {
                Ok(Some(report)) => return Ok(Some(report)),
                Ok(None) => {}
                Err(error) if is_of_another_message(&error) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // One message that could not be asked about may be the one.
        failed.map_or(Ok(None), Err)
    }
}

/// What providers answer when the payment was not made in the message of this reference.
fn is_of_another_message(error: &CallError) -> bool {
    matches!(error, CallError::Rejected { code, .. } if matches!(code.as_str(), "refund_no_payment" | "not_this_payment"))
}

fn in_every_message(order: &Order, request: &RefundRequest) -> impl Iterator<Item = RefundRequest> {
    let references: Vec<_> = every_sending(order).into_iter().cloned().collect();
    let request = request.clone();
    references.into_iter().map(move |reference| RefundRequest {
        reference,
        ..request.clone()
    })
}

fn request(order: &Order, refund: &Refund, gateway: &dyn Gateway, now: Millis) -> RefundRequest {
    let id = refund.id.clone().unwrap_or_default();
    let ask = refund.ask.as_ref();
    let captured_at = match (order.payment(), order.strays.get(&refund.payment_id)) {
        (Some((paying, at)), _) if paying == refund.payment_id => at,
        (_, Some(stray)) => stray.report.at.unwrap_or(stray.since),
        _ => refund.since,
    };
    let reserved = order.refunds.reserved(Some(&refund.payment_id));
    RefundRequest {
        reference: order.key.reference.clone(),
        order_id: gateway.order_id(&order.key.reference).to_string(),
        gateway_id: order.started.as_ref().map(|s| s.id.clone()),
        mode: order.terms().mode,
        payment_id: refund.payment_id.clone(),
        captured: order
            .parts(&refund.payment_id)
            .map_or(Paise::ZERO, |parts| parts.worth),
        captured_at,
        token: refund::token(&order.key, &id),
        refund_id: id,
        amount: refund.amount,
        before: reserved.checked_sub(refund.amount).unwrap_or(Paise::ZERO),
        others: order
            .refunds
            .list()
            .iter()
            .filter(|r| r.id != refund.id && r.payment_id == refund.payment_id)
            .filter_map(|r| r.gateway_id.clone())
            .collect(),
        unnamed: order.refunds.unnamed_since(refund),
        ahead: order.refunds.ahead(refund),
        first: false,
        same_amount_at: order.refunds.twin_before(refund),
        speed: ask.map_or(Speed::Normal, |a| a.speed),
        reason: ask.and_then(|a| a.reason.clone()),
        now,
        gateway_refund_id: refund.gateway_id.clone(),
        not_now: refund.obstacle().map(|_| refund.attempts),
    }
}

/// Asks the gateway for a refund that is claimed, and stores how it ended.
async fn call<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
) -> Result<Order, StoreError> {
    let Some(refund) = order.refunds.find(id) else {
        return Ok(order);
    };
    if let Some(error) = moved(ask, &order) {
        let ended = Ended::new(RefundOutcome::Refused, error);
        return end(deps, &order, id, ended, "refund").await;
    }
    // The first call follows right after the write that nobody else made; each further one was preceded by a try that left its trace.
    let request = RefundRequest {
        first: refund.attempts <= 1,
        ..request(&order, refund, ask.gateway(&order), deps.clock.now())
    };
    let payer = payer(ask, &order);
    let attempt = refund.attempts;
    let ended = match payer.refund(deps.http, &order, &request).await {
        Ok(report) => {
            report_end(&order, id, &report);
            let once = Once::refund_ended(id, attempt);
            return store(deps, &order, once, Some(id), report, payer.name()).await;
        }
        Err(error) => Ended::from(error),
    };
    end(deps, &order, id, ended, payer.name()).await
}

/// How a call ended that did not make the gateway take the refund.
struct Ended {
    outcome: RefundOutcome,
    error: String,
    obstacle: Option<Obstacle>,
}

impl Ended {
    fn new(outcome: RefundOutcome, error: impl Into<String>) -> Self {
        Self {
            outcome,
            error: error.into(),
            obstacle: None,
        }
    }
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Rejected { code, reason } => {
                Self::new(RefundOutcome::Refused, format!("{code}: {reason}"))
            }
            CallError::Unsupported(why) => {
                Self::new(RefundOutcome::Refused, format!("unsupported: {why}"))
            }
            CallError::Unavailable { reason, .. } => {
                Self::new(RefundOutcome::Later, format!("unavailable: {reason}"))
            }
            CallError::NotNow { obstacle, reason } => Self {
                obstacle: Some(obstacle),
                ..Self::new(
                    RefundOutcome::Later,
                    format!("{}: {reason}", obstacle.as_str()),
                )
            },
            CallError::Unknown { reason } => {
                Self::new(RefundOutcome::Unknown, format!("unknown: {reason}"))
            }
        }
    }
}

/// Stores that the gateway did not take a refund.
async fn end<S: OrderStore, Q, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    order: &Order,
    id: &str,
    ended: Ended,
    by: &str,
) -> Result<Order, StoreError> {
    let attempt = order.refunds.find(id).map_or(1, |r| r.attempts);
    match ended.outcome {
        RefundOutcome::Refused | RefundOutcome::Dismissed => {
            log_refund(order, id, "refund_failed", &ended.error)
        }
        RefundOutcome::Unknown => log_refund(order, id, "refund_unknown", &ended.error),
        RefundOutcome::Later => {
            if let Some(obstacle) = ended.obstacle {
                log_not_now(order, id, obstacle, &ended.error);
            }
        }
    }
    let event = Event::RefundEnded {
        id: id.to_owned(),
        outcome: ended.outcome,
        error: ended.error,
        obstacle: ended.obstacle.map(|o| o.as_str().to_owned()),
    };
    let recorded = Recorded::new(deps.clock.now(), by, event);
    record(deps.store, order, Once::refund_ended(id, attempt), recorded).await
}

async fn store<S: OrderStore, Q, H, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    order: &Order,
    once: Once,
    id: Option<&str>,
    report: RefundReport,
    by: &str,
) -> Result<Order, StoreError> {
    let event = Event::Refund {
        id: id.map(str::to_owned),
        report,
    };
    let recorded = Recorded::new(deps.clock.now(), by, event);
    let order = record(deps.store, order, once, recorded).await?;
    report_new_holds(&order);
    Ok(order)
}

fn report_end(order: &Order, id: &str, report: &RefundReport) {
    if report.status == RefundStatus::Failed {
        let error = report.error.as_deref().unwrap_or("the gateway gave up");
        log_refund(order, id, "refund_failed", error);
    }
}

/// One line when money that should go back does not, or nobody knows; alarms watch for both.
pub(crate) fn log_refund(order: &Order, id: &str, event: &'static str, error: &str) {
    match event {
        "refund_failed" => tracing::error!(
            event = "refund_failed",
            order.tenant_id = %order.key.tenant,
            order.reference_id = %order.key.reference,
            refund.id = id,
            "the refund will not happen: {error}"
        ),
        _ => tracing::error!(
            event = "refund_unknown",
            order.tenant_id = %order.key.tenant,
            order.reference_id = %order.key.reference,
            refund.id = id,
            "whether the money went back is not known: {error}"
        ),
    }
}

/// One line each time the gateway will not give money back before the shop has put something right there; an alarm watches for it.
fn log_not_now(order: &Order, id: &str, obstacle: Obstacle, error: &str) {
    tracing::error!(
        event = "refund_not_now",
        order.tenant_id = %order.key.tenant,
        order.reference_id = %order.key.reference,
        refund.id = id,
        refund.reason = obstacle.as_str(),
        "the refund waits for the shop and is asked for again by itself: {error}"
    );
}

/// Goes on with a refund whose time has come: asks what became of it, or asks for it again. Gives the order as it is then, and why it
/// could not go on.
pub async fn pursue<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
) -> (Order, Result<(), RefundError>) {
    match go_on(deps, ask, order.clone(), id, true).await {
        Ok(after) => match queue_owed(deps.queue, &after).await {
            Ok(_) => (after, Ok(())),
            Err(error) => (after, Err(error.into())),
        },
        Err(error) => (order, Err(error)),
    }
}

/// Only asks what became of a refund, whatever its time: somebody unproven spoke of it. Never asks for it again, or a stranger could
/// make us.
pub(crate) async fn look<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
) -> Result<Order, RefundError> {
    let order = go_on(deps, ask, order, id, false).await?;
    queue_owed(deps.queue, &order).await?;
    Ok(order)
}

async fn go_on<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
    may_ask_again: bool,
) -> Result<Order, RefundError> {
    let now = deps.clock.now();
    let Some(refund) = order.refunds.find(id).filter(|r| !r.state.is_final()) else {
        return Ok(order);
    };
    if let Some(error) = moved(ask, &order) {
        log_refund(&order, id, "refund_unknown", error);
        return Ok(order);
    }
    if refund.state == RefundState::Waiting {
        return if may_ask_again {
            again(deps, ask, order, id).await
        } else {
            Ok(order)
        };
    }
    let waits = now.seconds_since(refund.tried_at);
    if refund.state == RefundState::Pending && waits > LONGEST_PENDING {
        log_refund(
            &order,
            id,
            "refund_unknown",
            "the gateway has worked on it for ten days",
        );
    }
    let request = request(&order, refund, ask.gateway(&order), now);
    let payer = payer(ask, &order);
    match payer.lookup(deps.http, &order, &request).await {
        Ok(Some(report)) => {
            let known = order.events.iter().any(|r| match &r.event {
                Event::Refund { id: own, report: r } => {
                    own.as_deref() == Some(id) && r.status == report.status && r.id == report.id
                }
                _ => false,
            });
            if known {
                return Ok(order);
            }
            report_end(&order, id, &report);
            let once = Once::refund_found(id, &report);
            Ok(store(deps, &order, once, Some(id), report, payer.name()).await?)
        }
        // What the gateway took once it does not forget; a list that is late is asked for again.
        Ok(None) if refund.state == RefundState::Pending => Ok(order),
        Ok(None) if waits < NEVER_ARRIVED || !may_ask_again => Ok(order),
        Ok(None) => again(deps, ask, order, id).await,
        // Its webhook will tell; what takes too long was said above.
        Err(CallError::Unsupported(_)) if refund.state == RefundState::Pending => Ok(order),
        Err(CallError::Unsupported(why)) => {
            log_refund(&order, id, "refund_unknown", why);
            Ok(order)
        }
        Err(error) => Err(RefundError::Unanswered(error)),
    }
}

/// Claims one more try and makes it. Somebody else's claim is respected.
async fn again<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: Order,
    id: &str,
) -> Result<Order, RefundError> {
    let now = deps.clock.now();
    let (attempt, state, most) =
        order
            .refunds
            .find(id)
            .map_or((1, RefundState::Unknown, MOST_TRIES), |r| {
                let most = match r.obstacle() {
                    Some(_) => MOST_TRIES_NOT_NOW,
                    None => MOST_TRIES,
                };
                (r.attempts.saturating_add(1), r.state, most)
            });
    if attempt > most {
        if state != RefundState::Waiting {
            log_refund(&order, id, "refund_unknown", "asked for in vain too often");
            return Ok(order);
        }
        let error = "too_many_tries: the gateway never took it";
        let ended = Ended::new(RefundOutcome::Dismissed, error);
        return Ok(end(deps, &order, id, ended, "refund").await?);
    }
    let event = Event::RefundTried {
        id: id.to_owned(),
        attempt,
    };
    let append = Append {
        once: Some(Once::refund_tried(id, attempt)),
        events: vec![Recorded::new(now, "refund", event)],
        expect: Some(order.events.len()),
        at_most: None,
        due: Due::At(now.plus_seconds(REFUND_PATIENCE)),
    };
    match deps.store.append(&order.key, &append).await? {
        Appended::Done(order) => Ok(call(deps, ask, order, id).await?),
        Appended::Duplicate(order) | Appended::Stale(order) => Ok(order),
        Appended::Missing | Appended::Alias(_) => Err(RefundError::NotFound),
    }
}

/// A person decides about held money: it pays the order, or it is taken care of elsewhere.
///
/// Round trips: read, store, and the queue when the customer is told that it is paid.
pub async fn settle<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    key: &OrderKey,
    payment_id: &str,
    accept: bool,
    by: &str,
) -> Result<Order, RefundError> {
    let order = deps.store.load(key).await?.ok_or(RefundError::NotFound)?;
    let held = order.holds.iter().any(|(_, _, id)| id == payment_id);
    let decisions: Vec<bool> = order
        .events
        .iter()
        .filter_map(|r| match &r.event {
            Event::Settled {
                payment_id: id,
                accept,
            } if id == payment_id => Some(*accept),
            _ => None,
        })
        .collect();
    if !held && decisions.last() == Some(&accept) {
        queue_owed(deps.queue, &order).await?;
        return Ok(order);
    }
    let pays = order.captured_amount() == Paise::ZERO
        && order.taken(payment_id).is_some()
        && order.refunds.reserved(Some(payment_id)) == Paise::ZERO;
    if !held || (accept && !pays) {
        return Err(RefundError::NotPaid);
    }
    let event = Event::Settled {
        payment_id: payment_id.to_owned(),
        accept,
    };
    let recorded = Recorded::new(deps.clock.now(), by, event);
    let once = Once::named(&format!("settled:{payment_id}:{}", decisions.len()));
    let order = record(deps.store, &order, once, recorded).await?;
    queue_owed(deps.queue, &order).await?;
    Ok(order)
}

/// A person found out what became of a refund that nobody can be asked about: it went back, or it never happened.
///
/// Round trips: read, store, and the queue when the customer is told.
pub async fn settle_refund<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    key: &OrderKey,
    id: &str,
    processed: bool,
    by: &str,
) -> Result<Order, RefundError> {
    let order = deps.store.load(key).await?.ok_or(RefundError::NotFound)?;
    let now = deps.clock.now();
    let Some(refund) = order.refunds.find(id) else {
        return Err(RefundError::NotPaid);
    };
    let wanted = if processed {
        RefundState::Processed
    } else {
        RefundState::Failed
    };
    if refund.state == wanted {
        queue_owed(deps.queue, &order).await?;
        return Ok(order);
    }
    // What is final is final, and what was asked for a moment ago may still be answered.
    if refund.state.is_final() || now.seconds_since(refund.tried_at) < NEVER_ARRIVED {
        return Err(RefundError::NotPaid);
    }
    let order = if processed {
        let report = RefundReport {
            status: RefundStatus::Processed,
            id: refund.gateway_id.clone(),
            name: Some(id.to_owned()),
            payment_id: refund.payment_id.clone(),
            amount: refund.amount,
            speed: None,
            bank_reference: None,
            error: None,
            at: Some(now),
        };
        let once = Once::named(&format!("settled:refund:{id}"));
        store(deps, &order, once, Some(id), report, by).await?
    } else {
        let event = Event::RefundEnded {
            id: id.to_owned(),
            outcome: RefundOutcome::Dismissed,
            error: "dismissed: a person found out that it never happened".to_owned(),
            obstacle: None,
        };
        let once = Once::named(&format!("settled:refund:{id}"));
        record(deps.store, &order, once, Recorded::new(now, by, event)).await?
    };
    queue_owed(deps.queue, &order).await?;
    Ok(order)
}
