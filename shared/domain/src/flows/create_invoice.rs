//! Takes a bill: stores the order once, obtains the payment where the mode needs one, queues the invoice message.
//!
//! Round trips: store, queue; with a link store, gateway, store, queue.

use crate::bill::Bill;
use crate::connector::{Gateway, Gateways};
use crate::event::{Event, Once, Recorded};
use crate::fault::Fault;
use crate::flows::{lookup_request, queue_owed};
use crate::http::{CallError, converse};
use crate::ids::OrderKey;
use crate::order::{Contents, Draft, Order, PaymentStatus, Terms};
use crate::payment::{Device, PaymentMode, PaymentRequest};
use crate::ports::{
    Append, Appended, Clock, Created, Due, HttpSend, OrderStore, Queue, StoreError,
};
use crate::sms::Kind;
use crate::tenant::{ChannelKind, FirstForm, Tenant};
use crate::time::Millis;
use crate::token::ReceiptToken;

/// The bill's life is counted from when it is stored; this much is added so that a link made a moment later, and a message sent
/// a moment after that, still keep the vendors' shortest times (Razorpay 15 min, WhatsApp 300 s). Seconds.
pub const GRACE: i64 = 60;

/// Razorpay's shortest life of a link, with the same grace; used when an order is resumed late. Seconds.
const SHORTEST_LINK: i64 = 900 + GRACE;

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

/// How it went well.
#[derive(Debug)]
pub enum Outcome {
    /// A new order.
    Created(Order),
    /// The order of an earlier, equal request.
    Repeated(Order),
}

/// How it went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The bill breaks a rule of the tenant's gateway.
    #[error("the bill is not possible with this gateway")]
    Invalid(Vec<Fault>),
    /// Another bill has this number.
    #[error("another bill has this reference_id")]
    Conflict,
    /// The gateway refuses the payment. The order is kept; the same bill posted again tries anew.
    #[error("the gateway refused: {code}")]
    Refused {
        /// The gateway's code.
        code: String,
        /// The gateway's words.
        detail: String,
    },
    /// The gateway cannot be reached. The order is kept and resumed.
    #[error("the gateway is unavailable: {0}")]
    GatewayUnavailable(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed. The order is kept; `reconcile` queues its message.
    #[error(transparent)]
    Queue(#[from] crate::ports::QueueError),
}

/// Takes a bill.
pub async fn create_invoice<S: OrderStore, Q: Queue, H: HttpSend, C: Clock>(
    deps: &Deps<'_, S, Q, H, C>,
    tenant: &Tenant,
    gateways: &Gateways,
    bill: Bill,
    by: &str,
    public_url: &str,
    device: Option<Device>,
) -> Result<Outcome, CreateError> {
    let mode = tenant.payment.mode;
    let faults = gateways.current().check(&bill, mode, bill.expires_in);
    if !faults.is_empty() {
        return Err(CreateError::Invalid(faults));
    }
    let draft = draft(tenant, bill, by, public_url, deps.clock.now());
    let (order, new) = match deps.store.create(&draft).await? {
        Created::New(order) => (order, true),
        Created::Existing(order) if order.contents.hash == draft.contents.hash => (order, false),
        Created::Existing(_) | Created::Taken => return Err(CreateError::Conflict),
    };
    let order = start(
        deps.store,
        deps.http,
        deps.clock,
        tenant,
        gateways,
        order,
        Caller {
            maybe_exists: !new,
            device,
        },
    )
    .await?;
    queue_owed(deps.queue, &order).await?;
    Ok(if new {
        Outcome::Created(order)
    } else {
        Outcome::Repeated(order)
    })
}

fn draft(tenant: &Tenant, bill: Bill, by: &str, public_url: &str, now: Millis) -> Draft {
    let key = OrderKey::new(tenant.id.clone(), bill.reference.clone());
    let token = tenant
        .receipt_secret()
        .map(|secret| ReceiptToken::issue(&key, secret))
        .unwrap_or_default();
    let template =
        tenant.channel.receipt.is_some() && tenant.channel.form != FirstForm::Interactive;
    let failed_text = tenant
        .channel
        .account
        .credentials
        .has("dlt_template_ids", Kind::Failed.as_str());
    let contents = Contents {
        terms: Terms {
            mode: tenant.payment.mode,
            gateway: tenant.payment.account.vendor.clone(),
            account: tenant.payment.account.mark(),
            channel: tenant.channel.kind.as_str().to_owned(),
            provider: tenant.channel.account.vendor.clone(),
            on_captured: tenant.on_captured,
            late_payment: tenant.late_payment,
            receipt_message: template,
            failed_message: tenant.channel.kind == ChannelKind::Sms && failed_text,
            receipt_url: format!("{}/r/{token}", public_url.trim_end_matches('/')),
        },
        hash: bill.hash(),
        created_at: now,
        expires_at: now.plus_seconds(bill.expires_in.saturating_add(GRACE)),
        bill,
    };
    Draft {
        key,
        contents,
        created: Recorded::new(now, by, Event::Created),
        due: now.plus_seconds(60),
    }
}

/// What is known about why a payment is started.
pub(crate) struct Caller {
    /// An earlier try may have reached the gateway.
    pub(crate) maybe_exists: bool,
    /// The device the bill was posted from.
    pub(crate) device: Option<Device>,
}

/// Obtains the payment if the order needs one and has none. Also used by `reconcile` to resume an order that a crash left.
pub(crate) async fn start<S: OrderStore, H: HttpSend, C: Clock>(
    store: &S,
    http: &H,
    clock: &C,
    tenant: &Tenant,
    gateways: &Gateways,
    order: Order,
    caller: Caller,
) -> Result<Order, CreateError> {
    let Caller {
        maybe_exists,
        device,
    } = caller;
    if order.is_ready()
        || !order.payment_status().is_open()
        || order.terms().mode == PaymentMode::PaymentGateway
    {
        return Ok(order);
    }
    let Some(gateway) = gateways.of(order.terms()) else {
        return Err(CreateError::GatewayUnavailable(
            "the order was made with a gateway that the tenant's document does not have any more"
                .to_owned(),
        ));
    };
    let name = gateway.order_id(&order.key.reference);
    if name != order.key.reference && !store.alias(&name, &order.key).await? {
        return Err(CreateError::Refused {
            code: "order_id_taken".to_owned(),
            detail: "the gateway's name for this bill is another bill's reference_id".to_owned(),
        });
    }
    let request = PaymentRequest {
        maybe_exists,
        ..payment_request(tenant, gateway, &order, device, clock.now())
    };
    let result = converse(http, |answers| gateway.start(&request, answers)).await;
    let now = clock.now();
    let (once, event, mut failure) = match result {
        Ok(started) => (Some(Once::named("started")), Event::Started(started), None),
        Err(CallError::Rejected { code, reason }) => {
            let failure = CreateError::Refused {
                code: code.clone(),
                detail: reason.clone(),
            };
            (
                None,
                Event::StartRefused {
                    code,
                    detail: reason,
                },
                Some(failure),
            )
        }
        Err(CallError::Unsupported(what)) => {
            let failure = CreateError::Refused {
                code: "unsupported".to_owned(),
                detail: what.to_owned(),
            };
            (
                None,
                Event::StartRefused {
                    code: "unsupported".to_owned(),
                    detail: what.to_owned(),
                },
                Some(failure),
            )
        }
        Err(
            error @ (CallError::Unavailable { .. }
            | CallError::NotNow { .. }
            | CallError::Unknown { .. }),
        ) => {
            tracing::warn!(
                order.tenant_id = %order.key.tenant, order.reference_id = %order.key.reference,
                gateway.name = gateway.name(), error = %error, "the payment could not be started yet"
            );
            return Err(CreateError::GatewayUnavailable(error.to_string()));
        }
    };
    if let Event::StartRefused { code, detail } = &event
        && let Some(failure) = failure.take_if(|_| is_known(&order, code, detail))
    {
        // A till that posts again and again must not make the order grow.
        return Err(failure);
    }
    let append = Append {
        once,
        events: vec![Recorded::new(now, gateway.name(), event)],
        expect: None,
        at_most: None,
        // The message is queued right after; reconcile looks in case that never happens, and sooner when a payment was spoken of.
        due: Due::At(now.plus_seconds(if order.is_hinted() { 60 } else { 120 })),
    };
    let order = match store.append(&order.key, &append).await? {
        Appended::Done(order) | Appended::Duplicate(order) | Appended::Stale(order) => order,
        Appended::Missing | Appended::Alias(_) => {
            return Err(StoreError::Corrupt(format!("{} vanished", order.key)).into());
        }
    };
    if order.payment_status() == PaymentStatus::Canceled {
        // Canceled while the gateway was making the link: nobody may pay it any more.
        let request = lookup_request(&order, gateway, clock.now());
        if let Err(error) = converse(http, |answers| gateway.cancel(&request, answers)).await {
            tracing::error!(
                event = "tenant_broken",
                order.tenant_id = %order.key.tenant, order.reference_id = %order.key.reference,
                "the link of a canceled order could not be canceled: {error}"
            );
        }
    }
    match failure {
        Some(failure) if !order.is_ready() => Err(failure),
        _ => Ok(order),
    }
}

/// This many refusals of a payment are kept; a gateway that words each of them anew tells nothing more with the next.
const MOST_REFUSALS: usize = 10;

/// The refusal is the latest one, or there have been enough.
fn is_known(order: &Order, code: &str, detail: &str) -> bool {
    let refusals = order
        .events
        .iter()
        .filter(|r| matches!(r.event, Event::StartRefused { .. }));
    let latest = order.refusal.as_ref();
    latest.is_some_and(|(c, d)| (c.as_str(), d.as_str()) == (code, detail))
        || refusals.count() >= MOST_REFUSALS
}

/// What the gateway is told of an order, when its payment is made and when its pay page is shown.
#[must_use]
pub fn payment_request(
    tenant: &Tenant,
    gateway: &dyn Gateway,
    order: &Order,
    device: Option<Device>,
    now: Millis,
) -> PaymentRequest {
    let bill = order.bill();
    PaymentRequest {
        reference: order.key.reference.clone(),
        amount: bill.total,
        expires_at: order
            .contents
            .expires_at
            .max(now.plus_seconds(SHORTEST_LINK)),
        description: format!("{} bill {}", tenant.display_name, bill.reference),
        notes: bill
            .notes
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        return_url: order.terms().receipt_url.clone(),
        maybe_exists: false,
        mode: order.terms().mode,
        order_id: gateway.order_id(&order.key.reference).to_string(),
        bill: bill.clone(),
        shop: tenant.display_name.clone(),
        now,
        pay_url: format!("{}/pay", order.terms().receipt_url),
        webhook_url: webhook_url(order, gateway.name()),
        device,
    }
}

/// Where a vendor reports about an order.
fn webhook_url(order: &Order, source: &str) -> String {
    let base = order.terms().receipt_url.rsplit_once("/r/");
    let base = base.map_or("", |(base, _)| base);
    format!("{base}/webhooks/{source}/{}", order.key.tenant)
}
