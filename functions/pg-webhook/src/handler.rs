//! Verifies, reads and applies a webhook. 2xx only when every effect is durable; anything else makes the sender come again.

use chatbill_domain::connector::{self, Webhooks};
use chatbill_domain::flows::apply_webhook::{Askable, Deps, apply_webhook};
use chatbill_domain::ids::TenantId;
use chatbill_domain::ports::{Clock, Contacts, HttpSend, OrderStore, Queue, Tenants};
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
        .map(|gateway| gateway as &dyn Webhooks)
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
    apply_webhook(&deps, &id, sender.name(), signals, ask)
        .await
        .map_err(|error| ApiError::unavailable("not_durable", 5, error.to_string()))?;
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
