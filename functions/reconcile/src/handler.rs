//! One run of the reconciliation, ended in good time before Lambda would end it.

use chatbill_domain::flows::reconcile::{Connectors, Deps, Summary, reconcile};
use chatbill_domain::ports::{
    Clock, HttpSend, Leases, OrderStore, Queue, Random, StoreError, Tenants,
};
use chatbill_domain::time::Millis;
use serde_json::{Value, json};

/// What the function works with.
pub(crate) struct Ports<S, Q, T, H, C, R> {
    pub(crate) store: S,
    pub(crate) queue: Q,
    pub(crate) tenants: T,
    pub(crate) http: H,
    pub(crate) clock: C,
    pub(crate) random: R,
}

/// The last order may take this long: a conversation of several calls, and its writes. Seconds.
const RESERVE: i64 = 45;

/// Two runs at once would ask gateways twice, beyond the pace that each keeps alone.
const LEASE: &str = "reconcile";
/// The lease outlives the function's time by this much, seconds, for clocks that differ.
const MARGIN: i64 = 5;

/// One run, if no other one is going on. `deadline` is when Lambda stops the function, in milliseconds since the epoch.
pub(crate) async fn handle<S, Q, T, H, C, R>(
    ports: &Ports<S, Q, T, H, C, R>,
    deadline: u64,
) -> Result<Value, StoreError>
where
    S: OrderStore + Leases,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
    R: Random,
{
    let end = Millis::new(i64::try_from(deadline).unwrap_or(i64::MAX));
    let holder: String = ports.random.bytes().map(|b| format!("{b:02x}")).concat();
    let lease_end = end.plus_seconds(MARGIN);
    let taken = ports
        .store
        .take(LEASE, &holder, ports.clock.now(), lease_end);
    if !taken.await? {
        tracing::info!("another run is still going on");
        return Ok(json!({"skipped": true}));
    }
    let summary = run(ports, end.plus_seconds(RESERVE.saturating_neg())).await;
    if let Err(error) = ports.store.give_back(LEASE, &holder).await {
        // It ends by itself before the schedule's next run.
        tracing::warn!("the lease could not be given back: {error}");
    }
    let summary = summary?;
    tracing::info!(
        event = "reconciled",
        reconcile.checked = summary.checked,
        reconcile.failed = summary.failed,
        reconcile.unfinished = summary.unfinished,
        "reconciled"
    );
    if summary.unfinished {
        tracing::warn!(
            event = "reconcile_unfinished",
            "there was more to do than time"
        );
    }
    Ok(
        json!({"checked": summary.checked, "failed": summary.failed, "unfinished": summary.unfinished}),
    )
}

async fn run<S, Q, T, H, C, R>(
    ports: &Ports<S, Q, T, H, C, R>,
    until: Millis,
) -> Result<Summary, StoreError>
where
    S: OrderStore,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
{
    let deps = Deps {
        store: &ports.store,
        queue: &ports.queue,
        http: &ports.http,
        clock: &ports.clock,
        tenants: &ports.tenants,
    };
    let open = |tenant: &chatbill_domain::tenant::Tenant| {
        Ok(Connectors {
            gateways: chatbill_gateways::open_all(tenant)?,
            channel: chatbill_channels::open(tenant)?,
        })
    };
    reconcile(&deps, open, until).await
}

#[cfg(test)]
mod tests;
