//! Looks at what is outstanding: asks gateways about open orders, ends those whose time is over, takes up what a crash left.
//!
//! It reads only the due index, so its cost follows open work and not history. Each order it looks at is moved on in that index,
//! further each time nothing came of it; a run that has no time left simply ends, and the next one goes on where it stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::connector::{Channel, Gateways};
use crate::event::{Event, Once, Recorded};
use crate::fault::Fault;
use crate::flows::apply_webhook::{
    ApplyError, Askable, apply_found, ask_about, report_unclear, source_of,
};
use crate::flows::refund::{self, RefundError};
use crate::flows::{create_invoice, queue_owed, record, report_hold, report_new_holds, task};
use crate::http::CallError;
use crate::ids::{OrderKey, TenantId};
use crate::order::{MessageStatus, Order};
use crate::pace::{Pace, Turn};
use crate::payment::AttemptStatus;
use crate::ports::{
    Append, Appended, Clock, DUE_SHARDS, Due, HttpSend, OrderStore, Queue, StoreError, Tenants,
};
use crate::tenant::Tenant;
use crate::time::Millis;

/// What the use case works with.
pub struct Deps<'a, S, Q, H, C, T> {
    /// Orders.
    pub store: &'a S,
    /// Work for `send-status`.
    pub queue: &'a Q,
    /// Questions to gateways and providers.
    pub http: &'a H,
    /// Time.
    pub clock: &'a C,
    /// Tenants.
    pub tenants: &'a T,
}

/// A tenant's connectors.
pub struct Connectors {
    /// Its gateway accounts.
    pub gateways: Gateways,
    /// Its messaging provider.
    pub channel: Box<dyn Channel>,
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Orders looked at.
    pub checked: u32,
    /// Orders that could not be dealt with and will be looked at again.
    pub failed: u32,
    /// There was more to do than time.
    pub unfinished: bool,
}

/// Orders read from one shard at a time.
const PAGE: u32 = 25;
/// Pages per shard and run; the rest is the next run's.
const PAGES: u32 = 20;
/// Nobody is looked at again sooner than this, in seconds; doubled with each look in vain, up to 64 times.
const PACE: i64 = 60;
/// The schedule's rate, in seconds.
const RUN: i64 = 300;
/// An order that cannot even be read is looked at again after this, in seconds.
const UNREADABLE: i64 = 600;
/// Orders looked at per second and gateway account: their lookups have no documented limits, and a run must not find one.
const LOOKS: u32 = 10;
/// A tenant whose document is missing or invalid is looked at hourly.
const BROKEN_TENANT: i64 = 3600;

/// Works through the due index until nothing is due or `until` is reached.
pub async fn reconcile<S: OrderStore, Q: Queue, H: HttpSend, C: Clock, T: Tenants>(
    deps: &Deps<'_, S, Q, H, C, T>,
    open: impl Fn(&Tenant) -> Result<Connectors, Vec<Fault>> + Sync,
    until: Millis,
) -> Result<Summary, StoreError> {
    let mut summary = Summary::default();
    let mut silent = BTreeSet::new();
    let pace = Pace::new(1);
    // Each run begins with another shard, so that a run that is cut short does not always leave out the same orders.
    let turn = deps
        .clock
        .now()
        .seconds()
        .div_euclid(RUN)
        .rem_euclid(DUE_SHARDS.into());
    let turn = u8::try_from(turn).unwrap_or(0);
    for step in 0..DUE_SHARDS {
        let shard = step.wrapping_add(turn).checked_rem(DUE_SHARDS).unwrap_or(0);
        for _ in 0..PAGES {
            let now = deps.clock.now();
            let keys = deps.store.due(shard, now, PAGE).await?;
            let full = u32::try_from(keys.len()).unwrap_or(PAGE) >= PAGE;
            for key in keys {
                if deps.clock.now() >= until {
                    summary.unfinished = true;
                    return Ok(summary);
                }
                summary.checked = summary.checked.saturating_add(1);
                wait_for_turn(deps.clock, &pace, &key.tenant).await;
                if let Err(error) = check(deps, &open, &key, &mut silent).await {
                    summary.failed = summary.failed.saturating_add(1);
                    tracing::warn!(
                        order.tenant_id = %key.tenant, order.reference_id = %key.reference, error = %error,
                        "the order could not be reconciled and will be looked at again"
                    );
                    if !matches!(error, CheckError::Vendor(_)) {
                        // It could not even be put back properly; it must not stand in front of all others.
                        let later = Due::At(now.plus_seconds(UNREADABLE));
                        if let Err(error) = deps.store.reschedule(&key, None, later, 0).await {
                            tracing::error!(order.reference_id = %key.reference, "and could not be put back: {error}");
                        }
                    }
                }
            }
            if !full {
                break;
            }
        }
    }
    Ok(summary)
}

/// Each order means at most a few questions to one tenant's vendors.
async fn wait_for_turn<C: Clock>(clock: &C, pace: &Pace, tenant: &TenantId) {
    loop {
        let milliseconds = match pace.turn(tenant.as_str(), Some(LOOKS), clock.now()) {
            Turn::In(0) => return,
            Turn::In(wait) => {
                let wait = u64::try_from(wait).unwrap_or_default();
                return clock.sleep(Duration::from_millis(wait)).await;
            }
            Turn::Later(_) => 200,
        };
        clock.sleep(Duration::from_millis(milliseconds)).await;
    }
}

/// Why an order could not be dealt with this time.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Vendor(String),
    #[error(transparent)]
    Tenant(#[from] crate::ports::TenantError),
}

async fn check<S: OrderStore, Q: Queue, H: HttpSend, C: Clock, T: Tenants>(
    deps: &Deps<'_, S, Q, H, C, T>,
    open: &(impl Fn(&Tenant) -> Result<Connectors, Vec<Fault>> + Sync),
    key: &OrderKey,
    silent: &mut BTreeSet<TenantId>,
) -> Result<(), CheckError> {
    // The index may lag behind the table; an order that is gone from it needs nothing.
    let Some(order) = deps.store.load(key).await? else {
        return Ok(());
    };
    if order.due.is_none_or(|due| due > deps.clock.now()) {
        return Ok(());
    }
    let checks = order.checks;
    let connectors = match deps.tenants.find(&key.tenant).await {
        Ok(Some(tenant)) => open(&tenant)
            .map(|connectors| (tenant, connectors))
            .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default()),
        Ok(None) => Err("there is no such tenant".to_owned()),
        Err(crate::ports::TenantError::Invalid(why)) => Err(why),
        Err(error @ crate::ports::TenantError::Unavailable(_)) => return Err(error.into()),
    };
    let (tenant, connectors) = match connectors {
        Ok(found) => found,
        Err(why) => {
            tracing::error!(event = "tenant_broken", order.tenant_id = %key.tenant, "open orders wait for their tenant: {why}");
            let due = Due::At(deps.clock.now().plus_seconds(BROKEN_TENANT));
            deps.store
                .reschedule(key, Some(order.events.len()), due, checks.saturating_add(1))
                .await?;
            return Ok(());
        }
    };
    let before = order.events.len();
    let (order, result) = work(deps, &tenant, &connectors, order, silent).await;
    let now = deps.clock.now();
    let progressed = order.events.len() > before;
    let checks = if progressed {
        0
    } else {
        checks.saturating_add(1)
    };
    let pause = PACE.saturating_mul(1_i64.checked_shl(checks.min(6)).unwrap_or(1));
    let mut waiting = order.clone();
    waiting.checks = checks;
    let due = waiting
        .next_check(now)
        .map_or(Due::Never, |at| Due::At(at.max(now.plus_seconds(pause))));
    deps.store
        .reschedule(key, Some(order.events.len()), due, checks)
        .await?;
    result
}

/// Does what can be done, and gives the order as it is then, also when something failed on the way.
async fn work<S: OrderStore, Q: Queue, H: HttpSend, C: Clock, T>(
    deps: &Deps<'_, S, Q, H, C, T>,
    tenant: &Tenant,
    connectors: &Connectors,
    mut order: Order,
    silent: &mut BTreeSet<TenantId>,
) -> (Order, Result<(), CheckError>) {
    let ask = Askable {
        gateways: &connectors.gateways,
        channel: connectors.channel.as_ref(),
    };
    let now = deps.clock.now();
    let mut result = Ok(());
    // A vendor that did not answer once costs this run no second time-out for the same tenant.
    let ask_vendors = !silent.contains(&tenant.id);
    let mut clear = true;

    if ask_vendors
        && order.payment_status().is_open()
        && !order.is_ready()
        && order.refusal.is_none()
        && !order.is_over(now)
    {
        match create_invoice::start(
            deps.store,
            deps.http,
            deps.clock,
            tenant,
            ask.gateways,
            order.clone(),
            create_invoice::Caller {
                maybe_exists: true,
                device: None,
            },
        )
        .await
        {
            Ok(started) => {
                order = started;
                // As when the bill is posted: the customer has waited long enough.
                if let Err(error) = queue_owed(deps.queue, &order).await {
                    result = Err(CheckError::Vendor(error.to_string()));
                }
            }
            Err(create_invoice::CreateError::Store(error)) => return (order, Err(error.into())),
            Err(error) => {
                if matches!(error, create_invoice::CreateError::GatewayUnavailable(_)) {
                    silent.insert(tenant.id.clone());
                }
                result = Err(CheckError::Vendor(error.to_string()));
            }
        }
    }
    if order.payment_is_due(now) && !ask_vendors {
        clear = false;
        result = Err(CheckError::Vendor(
            "the vendor did not answer before".to_owned(),
        ));
    } else if order.payment_is_due(now) {
        match ask_about(deps.http, &order, ask, None, now).await {
            Ok(found) => {
                let names = source_of(ask, &order);
                match apply_found(
                    deps.store,
                    deps.queue,
                    deps.clock,
                    order.clone(),
                    found,
                    names,
                )
                .await
                {
                    Ok(applied) => order = applied,
                    Err(ApplyError::Store(error)) => return (order, Err(error.into())),
                    Err(error) => result = Err(CheckError::Vendor(error.to_string())),
                }
            }
            // Without an answer the order does not expire: it may be paid. Its messages go on all the same.
            Err(error) => {
                clear = false;
                match &error {
                    CallError::Rejected { .. }
                    | CallError::NotNow { .. }
                    | CallError::Unsupported(_) => report_unclear(&order, &error),
                    CallError::Unavailable { .. } | CallError::Unknown { .. } => {
                        silent.insert(tenant.id.clone());
                    }
                }
                result = Err(CheckError::Vendor(error.to_string()));
            }
        }
    }
    if order.is_over(now) && (clear || order.is_long_over(now)) {
        match expire(deps.store, &order, now).await {
            Ok(expired) => order = expired,
            Err(error) => return (order, Err(error.into())),
        }
    }
    if ask_vendors {
        let (after, refunded) = send_back_and_pursue(deps, ask, order).await;
        order = after;
        if let Err(error) = refunded {
            if let RefundError::Store(error) = error {
                return (order, Err(error.into()));
            }
            result = Err(CheckError::Vendor(error.to_string()));
        }
    }
    order = match remind(deps.store, order.clone(), now).await {
        Ok(order) => order,
        Err(error) => return (order, Err(error.into())),
    };
    for message in order.neglected(now) {
        if message.status == MessageStatus::Sending {
            tracing::warn!(
                order.tenant_id = %order.key.tenant, order.reference_id = %order.key.reference,
                message.key = %message.key, "a try to send was never finished"
            );
        } else {
            // Once is a crash or a burst; an alarm waits for more.
            tracing::warn!(
                event = "message_overdue",
                order.tenant_id = %order.key.tenant, order.reference_id = %order.key.reference,
                message.key = %message.key, "a message waits longer than planned and is queued again"
            );
        }
        if let Err(error) = deps.queue.send(&task(&order.key, message)).await {
            result = Err(CheckError::Vendor(error.to_string()));
        }
    }
    (order, result)
}

/// Sends back what the terms send back, and goes on with refunds that are not final.
async fn send_back_and_pursue<S: OrderStore, Q: Queue, H: HttpSend, C: Clock, T>(
    deps: &Deps<'_, S, Q, H, C, T>,
    ask: Askable<'_>,
    mut order: Order,
) -> (Order, Result<(), RefundError>) {
    let refunds = refund::Deps {
        store: deps.store,
        queue: deps.queue,
        http: deps.http,
        clock: deps.clock,
    };
    let now = deps.clock.now();
    let back: Vec<String> = order.to_send_back_by(now).cloned().collect();
    if !back.is_empty() {
        let (after, looked_up) = keep_back_others(deps, ask, order, &back).await;
        order = after;
        if let Err(error) = looked_up {
            return (order, Err(error));
        }
    }
    let sure: BTreeSet<String> = order.to_send_back_by(now).cloned().collect();
    for payment_id in back.into_iter().filter(|id| sure.contains(id)) {
        match refund::send_back(&refunds, ask, &order, &payment_id).await {
            Ok(after) => order = after,
            Err(error) => return (order, Err(error)),
        }
    }
    let due: Vec<String> = order
        .refunds_due(deps.clock.now())
        .filter_map(|r| r.id.clone())
        .collect();
    let mut result = Ok(());
    for id in due {
        let (after, ended) = refund::pursue(&refunds, ask, order, &id).await;
        order = after;
        if ended.is_err() {
            result = ended;
        }
    }
    (order, result)
}

/// Nothing goes back by itself that our own link, intent or message does not tell of as captured: it may have been paid to somebody
/// else, who would miss it. Gives the order as it is then; what is not found there waits for a person.
async fn keep_back_others<S: OrderStore, Q: Queue, H: HttpSend, C: Clock, T>(
    deps: &Deps<'_, S, Q, H, C, T>,
    ask: Askable<'_>,
    mut order: Order,
    back: &[String],
) -> (Order, Result<(), RefundError>) {
    let ours: BTreeSet<String> =
        match ask_about(deps.http, &order, ask, None, deps.clock.now()).await {
            Ok(found) => {
                let captured = found
                    .reports
                    .iter()
                    .filter(|report| report.status == AttemptStatus::Captured)
                    .map(|report| report.payment_id.clone())
                    .collect();
                let names = source_of(ask, &order);
                match apply_found(
                    deps.store,
                    deps.queue,
                    deps.clock,
                    order.clone(),
                    found,
                    names,
                )
                .await
                {
                    Ok(applied) => order = applied,
                    Err(ApplyError::Store(error)) => return (order, Err(error.into())),
                    Err(ApplyError::Queue(error)) => return (order, Err(error.into())),
                    Err(ApplyError::Lookup(error)) => {
                        return (order, Err(RefundError::Unanswered(error)));
                    }
                }
                captured
            }
            Err(error @ (CallError::Rejected { .. } | CallError::Unsupported(_))) => {
                report_unclear(&order, &error);
                BTreeSet::new()
            }
            Err(error) => return (order, Err(RefundError::Unanswered(error))),
        };
    for payment_id in back.iter().filter(|id| !ours.contains(*id)) {
        let event = Event::KeptBack {
            payment_id: payment_id.clone(),
        };
        let once = Once::named(&format!("kept:{payment_id}"));
        let recorded = Recorded::new(deps.clock.now(), "reconcile", event);
        order = match record(deps.store, &order, once, recorded).await {
            Ok(order) => order,
            Err(error) => return (order, Err(error.into())),
        };
        report_new_holds(&order);
    }
    (order, Ok(()))
}

/// A held order is mentioned again until a person settles it.
async fn remind<S: OrderStore>(store: &S, order: Order, now: Millis) -> Result<Order, StoreError> {
    if order.next_reminder().is_none_or(|at| now < at) {
        return Ok(order);
    }
    for (hold, _, _) in &order.holds {
        report_hold(&order, *hold);
    }
    let once = Once::named(&format!("reminded:{}", order.reminders()));
    let recorded = Recorded::new(now, "reconcile", Event::Reminded);
    record(store, &order, once, recorded).await
}

async fn expire<S: OrderStore>(store: &S, order: &Order, now: Millis) -> Result<Order, StoreError> {
    let append = Append {
        once: Some(Once::named("expired")),
        events: vec![Recorded::new(now, "reconcile", Event::Expired)],
        expect: Some(order.events.len()),
        at_most: None,
        due: Due::Keep,
    };
    match store.append(&order.key, &append).await? {
        Appended::Done(order) | Appended::Duplicate(order) | Appended::Stale(order) => Ok(order),
        Appended::Missing | Appended::Alias(_) => {
            Err(StoreError::Corrupt(format!("{} vanished", order.key)))
        }
    }
}
