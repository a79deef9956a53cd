//! What a shop may do with an order it posted: move its fulfilment on, cancel it, send its bill again.

use crate::connector::Gateway;
use crate::contact::Msisdn;
use crate::event::{Event, Recorded};
use crate::flows::apply_webhook::ApplyError;
use crate::flows::{lookup_request, queue_owed};
use crate::http::{CallError, converse};
use crate::ids::{OrderKey, ReferenceId};
use crate::message::{Fulfilment, MessageKey};
use crate::order::{Order, PaymentStatus};
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
    gateway: &dyn Gateway,
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
        if to == Fulfilment::Canceled {
            if order.payment_status().is_paid() {
                return Err(ChangeError::Illegal(
                    "the order is paid and can only be refunded".to_owned(),
                ));
            }
            cancel_payment(deps, gateway, &order).await?;
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
    gateway: &dyn Gateway,
    order: &Order,
) -> Result<(), ChangeError> {
    let has_link = order.terms().mode != PaymentMode::PaymentGateway;
    if !has_link || order.payment_status() == PaymentStatus::Expired {
        return Ok(());
    }
    // Also when no link is on record: a lost answer may have left one at the gateway.
    let request = lookup_request(order);
    match converse(deps.http, |answers| gateway.cancel(&request, answers)).await {
        Ok(Canceled::Closed) => Ok(()),
        Ok(Canceled::AlreadyPaid) => {
            let found = converse(deps.http, |answers| gateway.lookup(&request, answers)).await;
            if let Ok(found) = found {
                let names = (gateway.name(), gateway.name());
                super::apply_webhook::apply_found(
                    deps.store,
                    deps.queue,
                    deps.clock,
                    order.clone(),
                    found,
                    names,
                )
                .await
                .map_err(|error| match error {
                    ApplyError::Store(error) => ChangeError::Store(error),
                    ApplyError::Queue(error) => ChangeError::Queue(error),
                    ApplyError::Lookup(error) => ChangeError::GatewayUnavailable(error.to_string()),
                })?;
            }
            Err(ChangeError::Illegal(
                "the order was just paid and can only be refunded".to_owned(),
            ))
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

/// Sends the bill again, to a corrected number if one is given. It is still the same order; only the message gets a new
/// reference with a sequence number, because WhatsApp wants each `order_details` to have its own.
///
/// While an earlier sending to the same number is still on its way, that one is answered instead of making another.
///
/// Round trips: read, reserve the reference, store, queue.
pub async fn resend<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    key: &OrderKey,
    to: Option<Msisdn>,
    by: &str,
) -> Result<Order, ChangeError> {
    let mut order = deps.store.load(key).await?.ok_or(ChangeError::NotFound)?;
    let mut reserved: Option<ReferenceId> = None;
    for _ in 0..TRIES {
        match order.payment_status() {
            PaymentStatus::Pending | PaymentStatus::Failed => {}
            status => {
                return Err(ChangeError::Illegal(format!(
                    "the order is {}; only an unpaid bill is sent again",
                    status.as_str()
                )));
            }
        }
        if !order.is_ready() {
            return Err(ChangeError::Illegal(
                "the order has no payment yet; post the bill again first".to_owned(),
            ));
        }
        let same_number = to.as_ref().is_none_or(|phone| *phone == order.phone);
        let on_its_way = order
            .messages
            .iter()
            .rev()
            .find(|m| matches!(m.key, MessageKey::Invoice(_)))
            .is_some_and(|m| !m.status.is_settled());
        if same_number && on_its_way {
            queue_owed(deps.queue, &order).await?;
            return Ok(order);
        }
        let alias = match &reserved {
            Some(alias) => alias.clone(),
            None => reserve(deps.store, key, order.next_resend()).await?,
        };
        reserved = Some(alias.clone());
        let now = deps.clock.now();
        let event = Event::Resend {
            number: order.next_resend(),
            reference: alias,
            to: to.clone().filter(|_| !same_number),
        };
        let append = Append {
            once: None,
            events: vec![Recorded::new(now, by, event)],
            expect: Some(order.events.len()),
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

/// Finds a free message reference: the bill's with `-2`, `-3` …, cut when it would be longer than WhatsApp's 35 characters.
async fn reserve<S: OrderStore>(
    store: &S,
    key: &OrderKey,
    number: u32,
) -> Result<ReferenceId, ChangeError> {
    for candidate in (number..).take(10) {
        let suffix = format!("-{candidate}");
        let room = 35_usize.saturating_sub(suffix.len());
        let base: String = key.reference.as_str().chars().take(room).collect();
        if let Ok(alias) = ReferenceId::parse(format!("{base}{suffix}"))
            && store.alias(&alias, key).await?
        {
            return Ok(alias);
        }
    }
    Err(ChangeError::Illegal(
        "no free message reference was found".to_owned(),
    ))
}
