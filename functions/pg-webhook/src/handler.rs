//! Verifies, reads and applies a webhook. 2xx only when every effect is durable; anything else makes the sender come again.

use std::collections::BTreeSet;

use chatbill_domain::connector::{self, Signal, Webhooks};
use chatbill_domain::flows::apply_webhook::{ApplyError, Askable, Deps, apply_webhook};
use chatbill_domain::ids::TenantId;
use chatbill_domain::ports::{Clock, Contacts, HttpSend, OrderStore, Queue, TenantError, Tenants};
use chatbill_domain::webhook::{RawWebhook, Refused, VerifiedWebhook};
use chatbill_runtime::api::{self, ApiError};
use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request, RequestExt, Response};

/// What the function works with.
pub(crate) struct Ports<S, Q, T, H, C> {
    pub(crate) store: S,
    pub(crate) queue: Q,
    pub(crate) tenants: T,
    pub(crate) http: H,
    pub(crate) clock: C,
}

/// `POST /webhooks/{source}/{tenant_id}`, and the verification `GET`.
pub(crate) async fn handle<S, Q, T, H, C>(
    ports: &Ports<S, Q, T, H, C>,
    request: Request,
) -> Result<Response<Body>, ApiError>
where
    S: OrderStore + Contacts,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
{
    let segments = api::segments(&request);
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let [.., "webhooks", source, tenant_id] = path.as_slice() else {
        return Err(ApiError::not_found("there is no such path"));
    };
    let nobody = || ApiError::not_found("nobody expects webhooks here");
    let id = TenantId::parse(*tenant_id).map_err(|_| nobody())?;
    let tenant = ports.tenants.find(&id).await?.ok_or_else(nobody)?;
    let gateways = chatbill_gateways::open_all(&tenant)
        .map_err(|faults| ApiError::broken_tenant(&id, &faults))?;
    let channel =
        chatbill_channels::open(&tenant).map_err(|faults| ApiError::broken_tenant(&id, &faults))?;
    // One vendor can be there several times: what an account of before still sends is signed with its own secrets.
    let mut senders: Vec<&dyn Webhooks> = gateways
        .named(source)
        .map(|gateway| -> &dyn Webhooks { gateway })
        .collect();
    if channel.name() == *source {
        senders.push(channel.as_ref());
    }
    let Some(sender) = senders.first().copied() else {
        return Err(nobody());
    };

    let raw = raw(&request);
    if request.method() == Method::GET {
        return Ok(match sender.challenge(&raw) {
            Some(challenge) => api::text_response(StatusCode::OK, challenge),
            None => refuse(
                StatusCode::FORBIDDEN,
                sender.name(),
                &id,
                "the verification token is wrong",
            ),
        });
    }
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let (sender, verified) = match verify(&senders, raw) {
        Ok(verified) => verified,
        Err(why) => {
            return Ok(refuse(
                StatusCode::UNAUTHORIZED,
                sender.name(),
                &id,
                &why.to_string(),
            ));
        }
    };
    if let Some(challenge) = sender.challenge(verified.raw()) {
        return Ok(api::json_response(
            StatusCode::OK,
            &serde_json::json!({"challenge": challenge}),
        ));
    }
    let acknowledge = || api::text_response(StatusCode::OK, sender.acknowledgement());
    let signals = match connector::signals(sender, &verified) {
        Ok(signals) => signals,
        Err(error) => {
            // Refusing it would only make the sender repeat for days what we cannot read; reconcile finds the payment.
            tracing::error!(event = "webhook_unreadable", webhook.source = sender.name(), tenant_id = %id, "{error}");
            return Ok(acknowledge());
        }
    };
    let deps = Deps {
        store: &ports.store,
        queue: &ports.queue,
        http: &ports.http,
        clock: &ports.clock,
    };
    let ask = Askable {
        gateways: &gateways,
        channel: channel.as_ref(),
    };
    let (others, signals) = named_elsewhere(&id, signals);
    let mut unclaimed = Vec::new();
    for other in others {
        if !hand_on(ports, sender.name(), verified.raw(), &other).await? {
            unclaimed.push(Signal::Elsewhere {
                tenant: Some(other),
                what: "a report",
            });
        }
    }
    let signals = signals.into_iter().chain(unclaimed).collect();
    apply_webhook(&deps, &id, sender.name(), signals, ask)
        .await
        .map_err(not_durable)?;
    Ok(acknowledge())
}

/// The account that signed it; where none did, the first that takes it as it is. Refused, it is the current account that says why.
fn verify<'a>(
    senders: &[&'a dyn Webhooks],
    raw: RawWebhook,
) -> Result<(&'a dyn Webhooks, VerifiedWebhook), Refused> {
    let mut unsigned = None;
    let mut refused = None;
    for sender in senders {
        match sender.verify(raw.clone()) {
            Ok(verified) if verified.is_signed() => return Ok((*sender, verified)),
            Ok(verified) => unsigned = unsigned.or(Some((*sender, verified))),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    unsigned.ok_or(refused.unwrap_or(Refused::Missing))
}

fn not_durable(error: ApplyError) -> ApiError {
    ApiError::unavailable("not_durable", 5, error.to_string())
}

/// One webhook speaks of few tenants; whoever names more does not mean ours.
const MOST_TENANTS: usize = 4;

/// The other tenants that reports name, and what is left.
fn named_elsewhere(own: &TenantId, signals: Vec<Signal>) -> (BTreeSet<TenantId>, Vec<Signal>) {
    let mut others = BTreeSet::new();
    let mut rest = Vec::new();
    for signal in signals {
        match signal {
            Signal::Elsewhere {
                tenant: Some(tenant),
                ..
            } if tenant != *own && (others.contains(&tenant) || others.len() < MOST_TENANTS) => {
                others.insert(tenant);
            }
            signal => rest.push(signal),
        }
    }
    (others, rest)
}

/// One app of Meta's serves several numbers and has one address: the webhook is read once more as if it had come to the other tenant's.
/// That tenant's own document decides whether the sender is its provider, so whoever may speak for one tenant cannot speak for another.
/// False: that tenant does not take it.
async fn hand_on<S, Q, T, H, C>(
    ports: &Ports<S, Q, T, H, C>,
    source: &str,
    raw: &RawWebhook,
    other: &TenantId,
) -> Result<bool, ApiError>
where
    S: OrderStore + Contacts,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
{
    let tenant = match ports.tenants.find(other).await {
        Ok(Some(tenant)) => tenant,
        Ok(None) | Err(TenantError::Invalid(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let (Ok(gateways), Ok(channel)) = (
        chatbill_gateways::open_all(&tenant),
        chatbill_channels::open(&tenant),
    ) else {
        return Ok(false);
    };
    if channel.name() != source {
        return Ok(false);
    }
    let sender: &dyn Webhooks = channel.as_ref();
    let Ok(verified) = sender.verify(raw.clone()) else {
        return Ok(false);
    };
    let mut signals = connector::signals(sender, &verified).unwrap_or_default();
    // What is not this tenant's either has been seen at the address it came to.
    signals.retain(|signal| !matches!(signal, Signal::Elsewhere { .. }));
    if !signals.iter().any(|s| matches!(s, Signal::Message { .. })) {
        return Ok(false);
    }
    let deps = Deps {
        store: &ports.store,
        queue: &ports.queue,
        http: &ports.http,
        clock: &ports.clock,
    };
    let ask = Askable {
        gateways: &gateways,
        channel: channel.as_ref(),
    };
    apply_webhook(&deps, other, source, signals, ask)
        .await
        .map_err(not_durable)?;
    Ok(true)
}

/// The sender learns nothing but the status; an alarm counts these lines.
fn refuse(status: StatusCode, source: &str, tenant: &TenantId, why: &str) -> Response<Body> {
    tracing::warn!(event = "webhook_refused", webhook.source = source, tenant_id = %tenant, "webhook refused: {why}");
    api::text_response(status, "")
}

/// Everything that arrived. A provider may put many reports into one webhook, so the API's limit for bodies does not hold here.
fn raw(request: &Request) -> RawWebhook {
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let query = request
        .query_string_parameters_ref()
        .map(|map| {
            map.iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        })
        .unwrap_or_default();
    RawWebhook {
        headers,
        query,
        body: api::bytes(request).to_vec(),
    }
}

#[cfg(test)]
mod tests;
