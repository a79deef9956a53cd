//! What a shop may do with an order it posted: move its fulfilment on, cancel it, send its bill again.

use crate::contact::Msisdn;
use crate::event::{Event, Recorded, request_name};
use crate::flows::apply_webhook::{ApplyError, Askable, apply_found, ask_about, source_of};
use crate::flows::{lookup_request, queue_owed};
use crate::http::{CallError, converse};
use crate::ids::{OrderKey, ReferenceId};
use crate::message::{Fulfilment, MessageKey};
use crate::order::{MOST_ASKS, MOST_RESENDS, Order, PaymentStatus, ResendAsked};
use crate::payment::{Canceled, PaymentMode};
use crate::ports::{
    Append, Appended, Clock, Due, HttpSend, OrderStore, Queue, QueueError, StoreError,
};

/// What the use cases work with.
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

/// Why an order cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// The state does not allow it.
    #[error("{0}")]
    Illegal(String),
    /// The order takes no more asks.
    #[error(
        "this order has had {MOST_ASKS} changes, re-sends and refunds, or has grown too large for more"
    )]
    TooManyAsks,
    /// The bill is not sent once more.
    #[error("this bill was sent again {MOST_RESENDS} times")]
    TooManyResends,
    /// The name of the request was used for another one.
    #[error("this Idempotency-Key was used for a re-send to another number")]
    KeyInUse,
    /// Somebody else keeps changing it.
    #[error("the order keeps changing")]
    Busy,
    /// The gateway cannot be reached, so its link might still be paid.
    #[error("the gateway is unavailable: {0}")]
    GatewayUnavailable(String),
    /// The gateway refuses to cancel.
    #[error("the gateway refused: {code}")]
    Refused {
        /// The gateway's code.
        code: String,
        /// The gateway's words.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed; `reconcile` queues the message.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// How often a change is tried again when somebody else wrote first.
const TRIES: usize = 4;

/// Moves the fulfilment on, or cancels. Asking for the state the order has already is answered with the order.
///
/// Round trips: read, store, queue; canceling a link asks the gateway first, so that no money can come after.
pub async fn set_fulfilment<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    key: &OrderKey,
    to: Fulfilment,
    description: Option<String>,
    by: &str,
) -> Result<Order, ChangeError> {
    let mut order = deps.store.load(key).await?.ok_or(ChangeError::NotFound)?;
    for _ in 0..TRIES {
        if order.fulfilment == to {
            queue_owed(deps.queue, &order).await?;
            return Ok(order);
        }
        let from = order.fulfilment;
        if !from.may_become(to) {
            return Err(ChangeError::Illegal(format!(
                "the order is {} and cannot become {}",
                from.as_str(),
                to.as_str()
            )));
        }
        if !order.takes_asks() {
            return Err(ChangeError::TooManyAsks);
        }
        if to == Fulfilment::Canceled {
            if order.payment_status().is_paid() {
                return Err(ChangeError::Illegal(
                    "the order is paid and can only be refunded".to_owned(),
                ));
            }
            cancel_payment(deps, ask, &order).await?;
        }
        let now = deps.clock.now();
        let event = Event::Fulfilment {
            to,
            description: description.clone(),
        };
        let append = Append {
            once: None,
            events: vec![Recorded::new(now, by, event)],
            expect: Some(order.events.len()),
            at_most: None,
            due: Due::At(now.plus_seconds(120)),
        };
        match deps.store.append(key, &append).await? {
            Appended::Done(order) => {
                queue_owed(deps.queue, &order).await?;
                return Ok(order);
            }
            Appended::Duplicate(current) | Appended::Stale(current) => order = current,
            Appended::Missing | Appended::Alias(_) => return Err(ChangeError::NotFound),
        }
    }
    Err(ChangeError::Busy)
}

/// Makes sure the gateway takes no more money for this order.
async fn cancel_payment<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: &Order,
) -> Result<(), ChangeError> {
    if order.payment_status() == PaymentStatus::Expired {
        return Ok(());
    }
    if order.terms().mode == PaymentMode::PaymentGateway {
        return not_paid_natively(deps, ask, order).await;
    }
    if !ask.knows(order) {
        return Err(ChangeError::Refused {
            code: "gateway_changed".to_owned(),
            detail: "the order was made with a gateway that the tenant's document does not have any more".to_owned(),
        });
    }
    let gateway = ask.gateway(order);
    // Also when no link is on record: a lost answer may have left one at the gateway.
    let request = lookup_request(order, gateway, deps.clock.now());
    match converse(deps.http, |answers| gateway.cancel(&request, answers)).await {
        Ok(Canceled::Closed) => Ok(()),
        Ok(Canceled::AlreadyPaid) => {
            let found = converse(deps.http, |answers| gateway.lookup(&request, answers)).await;
            if let Ok(found) = found {
                let names = (gateway.name(), gateway.name());
                apply_found(
                    deps.store,
                    deps.queue,
                    deps.clock,
                    order.clone(),
                    found,
                    names,
                )
                .await
                .map_err(not_applied)?;
            }
            Err(just_paid())
        }
        Err(CallError::Rejected { code, reason }) => Err(ChangeError::Refused {
            code,
            detail: reason,
        }),
        Err(CallError::Unsupported(what)) => Err(ChangeError::Refused {
            code: "unsupported".to_owned(),
            detail: what.to_owned(),
        }),
        Err(error) => Err(ChangeError::GatewayUnavailable(error.to_string())),
    }
}

/// A native checkout cannot be closed from here, but what was paid in it can be asked about. Nobody can have paid a bill that
/// was never sent.
async fn not_paid_natively<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    ask: Askable<'_>,
    order: &Order,
) -> Result<(), ChangeError> {
    if !order.bill_was_sent() {
        return Ok(());
    }
    let found = match ask_about(deps.http, order, ask, None, deps.clock.now()).await {
        Ok(found) => found,
        // Neither the provider nor the gateway can be asked; money that comes is held as late.
        Err(CallError::Unsupported(_)) => return Ok(()),
        Err(error) => return Err(ChangeError::GatewayUnavailable(error.to_string())),
    };
    let names = source_of(ask, order);
    let order = apply_found(
        deps.store,
        deps.queue,
        deps.clock,
        order.clone(),
        found,
        names,
    )
    .await
    .map_err(not_applied)?;
    if order.payment_status().is_paid() {
        return Err(just_paid());
    }
    Ok(())
}

fn just_paid() -> ChangeError {
    ChangeError::Illegal("the order was just paid and can only be refunded".to_owned())
}

fn not_applied(error: ApplyError) -> ChangeError {
    match error {
        ApplyError::Store(error) => ChangeError::Store(error),
        ApplyError::Queue(error) => ChangeError::Queue(error),
        ApplyError::Lookup(error) => ChangeError::GatewayUnavailable(error.to_string()),
    }
}

/// A request to send the bill again.
#[derive(Debug, Clone, Default)]
pub struct ResendRequest {
    /// A corrected number.
    pub to: Option<Msisdn>,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// Sends the bill again, to a corrected number if one is given. It is still the same order; only the message gets a new
/// reference with a sequence number, because WhatsApp wants each `order_details` to have its own.
///
/// The same request again is answered with the order as it is and sends nothing: one with the same `Idempotency-Key`, or, without one,
/// any to the same number within a minute. While an earlier sending to the same number is still on its way, that one is answered
/// instead of making another.
///
/// Round trips: read, reserve the reference, store, queue.
pub async fn resend<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    key: &OrderKey,
    request: &ResendRequest,
    by: &str,
) -> Result<Order, ChangeError> {
    let name = request.idempotency_key.as_deref().map(request_name);
    let mut order = deps.store.load(key).await?.ok_or(ChangeError::NotFound)?;
    let mut reserved: Option<(u32, ReferenceId)> = None;
    for _ in 0..TRIES {
        let now = deps.clock.now();
        let to = request.to.clone().unwrap_or_else(|| order.phone.clone());
        let asked = order.resend_was_asked(name.as_deref(), &to, now);
        if asked == ResendAsked::OtherNumber {
            return Err(ChangeError::KeyInUse);
        }
        match order.payment_status() {
            // By its name a request is known for good. By number and minute it is only taken for the same one while it could send.
            _ if asked == ResendAsked::Before && name.is_some() => {}
            PaymentStatus::Pending | PaymentStatus::Failed => {}
            status => {
                return Err(ChangeError::Illegal(format!(
                    "the order is {}; only an unpaid bill is sent again",
                    status.as_str()
                )));
            }
        }
        if asked == ResendAsked::Before {
            queue_owed(deps.queue, &order).await?;
            return Ok(order);
        }
        if !order.is_ready() {
            return Err(ChangeError::Illegal(
                "the order has no payment yet; post the bill again first".to_owned(),
            ));
        }
        if !order.takes_asks() {
            return Err(ChangeError::TooManyAsks);
        }
        let same_number = to == order.phone;
        let on_its_way = order
            .messages
            .iter()
            .rev()
            .find(|m| matches!(m.key, MessageKey::Invoice(_)))
            .is_some_and(|m| !m.status.is_settled());
        let (event, due) = if same_number && on_its_way {
            (Event::ResendAnswered { key: name.clone() }, Due::Keep)
        } else {
            if order.resends() >= MOST_RESENDS {
                return Err(ChangeError::TooManyResends);
            }
            let number = order.next_resend();
            let alias = match &reserved {
                Some((reserved_for, alias)) if *reserved_for == number => alias.clone(),
                _ => reserve(deps.store, key, &order, number).await?,
            };
            reserved = Some((number, alias.clone()));
            let event = Event::Resend {
                number,
                reference: alias,
                to: (!same_number).then_some(to),
                key: name.clone(),
            };
            (event, Due::At(now.plus_seconds(120)))
        };
        let append = Append {
            once: None,
            events: vec![Recorded::new(now, by, event)],
            expect: Some(order.events.len()),
            at_most: None,
            due,
        };
        match deps.store.append(key, &append).await? {
            Appended::Done(order) => {
                queue_owed(deps.queue, &order).await?;
                return Ok(order);
            }
            Appended::Duplicate(current) | Appended::Stale(current) => order = current,
            Appended::Missing | Appended::Alias(_) => return Err(ChangeError::NotFound),
        }
    }
    Err(ChangeError::Busy)
}

/// Finds a free message reference: the bill's with `-2`, `-3` …, cut when it would be longer than WhatsApp's 35 characters.
async fn reserve<S: OrderStore>(
    store: &S,
    key: &OrderKey,
    order: &Order,
    number: u32,
) -> Result<ReferenceId, ChangeError> {
    // WhatsApp wants a new reference for every sending, also when an earlier one skipped a number.
    let used: Vec<&ReferenceId> = order
        .events
        .iter()
        .filter_map(|r| match &r.event {
            Event::Resend { reference, .. } => Some(reference),
            _ => None,
        })
        .collect();
    for candidate in (number..).take(20) {
        let suffix = format!("-{candidate}");
        let room = 35_usize.saturating_sub(suffix.len());
        let base: String = key.reference.as_str().chars().take(room).collect();
        if let Ok(alias) = ReferenceId::parse(format!("{base}{suffix}"))
            && !used.contains(&&alias)
            && store.alias(&alias, key).await?
        {
            return Ok(alias);
        }
    }
    Err(ChangeError::Illegal(
        "no free message reference was found".to_owned(),
    ))
}
