//! One run of the reconciliation, ended in good time before Lambda would end it.

use chatbill_domain::flows::reconcile::{Connectors, Deps, reconcile};
use chatbill_domain::ports::{Clock, HttpSend, OrderStore, Queue, StoreError, Tenants};
use chatbill_domain::time::Millis;
use serde_json::{Value, json};

/// What the function works with.
pub(crate) struct Ports<S, Q, T, H, C> {
    pub(crate) store: S,
    pub(crate) queue: Q,
    pub(crate) tenants: T,
    pub(crate) http: H,
    pub(crate) clock: C,
}

/// The last order may take this long: a conversation of several calls, and its writes. Seconds.
const RESERVE: i64 = 45;

/// One run. `deadline` is when Lambda stops the function, in milliseconds since the epoch.
pub(crate) async fn handle<S, Q, T, H, C>(
    ports: &Ports<S, Q, T, H, C>,
    deadline: u64,
) -> Result<Value, StoreError>
where
    S: OrderStore,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
{
    let until = Millis::new(i64::try_from(deadline).unwrap_or(i64::MAX))
        .plus_seconds(RESERVE.saturating_neg());
    let deps = Deps {
        store: &ports.store,
        queue: &ports.queue,
        http: &ports.http,
        clock: &ports.clock,
        tenants: &ports.tenants,
    };
    let open = |tenant: &chatbill_domain::tenant::Tenant| {
        Ok(Connectors {
            gateway: chatbill_gateways::open(tenant)?,
            channel: chatbill_channels::open(tenant)?,
        })
    };
    let summary = reconcile(&deps, open, until).await?;
    tracing::info!(
        reconcile.checked = summary.checked,
        reconcile.failed = summary.failed,
        reconcile.unfinished = summary.unfinished,
        "reconciled"
    );
    Ok(
        json!({"checked": summary.checked, "failed": summary.failed, "unfinished": summary.unfinished}),
    )
}

#[cfg(test)]
mod tests;
