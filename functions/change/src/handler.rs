//! Lets the shop change an order it posted.

use chatbill_domain::contact::Msisdn;
use chatbill_domain::fault::Fault;
use chatbill_domain::flows::apply_webhook::Askable;
use chatbill_domain::flows::change_order::{
    ChangeError, Deps, ResendRequest, resend, set_fulfilment,
};
use chatbill_domain::flows::read_order::view;
use chatbill_domain::ids::{OrderKey, ReferenceId};
use chatbill_domain::json;
use chatbill_domain::message::Fulfilment;
use chatbill_domain::order::Order;
use chatbill_domain::phone::Country;
use chatbill_domain::ports::{Clock, HttpSend, OrderStore, Queue, Tenants};
use chatbill_domain::tenant::{Scope, Tenant};
use chatbill_runtime::api::{self, ApiError};
use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request, Response};

/// What the function works with.
pub(crate) struct Ports<S, Q, T, H, C> {
    pub(crate) store: S,
    pub(crate) queue: Q,
    pub(crate) tenants: T,
    pub(crate) http: H,
    pub(crate) clock: C,
}

/// Routes from the end of the path, so that a stage or base path in front does not matter.
pub(crate) async fn handle<S, Q, T, H, C>(
    ports: &Ports<S, Q, T, H, C>,
    request: Request,
) -> Result<Response<Body>, ApiError>
where
    S: OrderStore,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
{
    let segments = api::segments(&request);
    let [.., "invoices", reference, action @ ("status" | "resend")] =
        *segments.iter().map(String::as_str).collect::<Vec<_>>()
    else {
        return Err(ApiError::not_found("there is no such path"));
    };
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let (tenant, by) =
        api::authenticate(&ports.tenants, request.headers(), Scope::Invoices).await?;
    let reference = ReferenceId::parse(reference).map_err(|_| no_such_order())?;
    let key = OrderKey::new(tenant.id.clone(), reference);
    let order = if action == "status" {
        status(ports, &tenant, &key, &by, &request).await?
    } else {
        let wanted = ResendRequest {
            to: resend_body(api::body(&request)?, tenant.country)?,
            idempotency_key: api::idempotency_key(&request)?,
        };
        resend(&deps(ports), &key, &wanted, &by)
            .await
            .map_err(failure)?
    };
    Ok(api::json_response(StatusCode::OK, &view(&order, false)))
}

fn deps<S, Q, T, H, C>(ports: &Ports<S, Q, T, H, C>) -> Deps<'_, S, Q, H, C> {
    Deps {
        store: &ports.store,
        queue: &ports.queue,
        http: &ports.http,
        clock: &ports.clock,
    }
}

async fn status<S, Q, T, H, C>(
    ports: &Ports<S, Q, T, H, C>,
    tenant: &Tenant,
    key: &OrderKey,
    by: &str,
    request: &Request,
) -> Result<Order, ApiError>
where
    S: OrderStore,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
{
    let (to, description) = status_body(api::body(request)?)?;
    let broken = |faults: Vec<Fault>| ApiError::broken_tenant(&tenant.id, &faults);
    let gateways = chatbill_gateways::open_all(tenant).map_err(broken)?;
    let channel = chatbill_channels::open(tenant).map_err(broken)?;
    let ask = Askable {
        gateways: &gateways,
        channel: channel.as_ref(),
    };
    set_fulfilment(&deps(ports), ask, key, to, description, by)
        .await
        .map_err(failure)
}

/// `{"status": "shipped", "description"?: "…"}`. WhatsApp shows the description; at most 120 characters.
fn status_body(body: &[u8]) -> Result<(Fulfilment, Option<String>), ApiError> {
    let document = json::parse(body).map_err(|fault| ApiError::invalid(vec![fault]))?;
    json::read(&document, "", |f| {
        let to = f.required("status").and_then(|_| {
            f.parsed("status", |text| match text.as_str() {
                "processing" => Ok(Fulfilment::Processing),
                "partially_shipped" => Ok(Fulfilment::PartiallyShipped),
                "shipped" => Ok(Fulfilment::Shipped),
                "completed" => Ok(Fulfilment::Completed),
                "canceled" => Ok(Fulfilment::Canceled),
                _ => Err("processing, partially_shipped, shipped, completed or canceled"),
            })
        });
        let description = f.text("description", 120);
        Some((to?, description))
    })
    .map_err(ApiError::invalid)
}

/// `{}`, nothing, or `{"phone": "+91…"}`.
fn resend_body(body: &[u8], country: Country) -> Result<Option<Msisdn>, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let document = json::parse(body).map_err(|fault| ApiError::invalid(vec![fault]))?;
    json::read(&document, "", |f| {
        Some(f.parsed("phone", |text| Msisdn::from_people(&text, country)))
    })
    .map_err(ApiError::invalid)
}

fn no_such_order() -> ApiError {
    ApiError::not_found("there is no order with this reference_id")
}

fn failure(error: ChangeError) -> ApiError {
    match error {
        ChangeError::NotFound => no_such_order(),
        ChangeError::Illegal(why) => ApiError::conflict("illegal_transition", why),
        ChangeError::TooManyAsks => ApiError::conflict("too_many_changes", error.to_string()),
        ChangeError::TooManyResends => ApiError::conflict("too_many_resends", error.to_string()),
        ChangeError::KeyInUse => ApiError::conflict("idempotency_key_in_use", error.to_string()),
        ChangeError::Busy => ApiError::conflict("busy", "the order is being changed; ask again"),
        ChangeError::GatewayUnavailable(why) => {
            ApiError::unavailable("gateway_unavailable", 5, why)
        }
        ChangeError::Refused { code, detail } => {
            ApiError::refused(format!("the payment gateway refused ({code}): {detail}"))
        }
        ChangeError::Store(error) => error.into(),
        ChangeError::Queue(error) => {
            ApiError::unavailable("queue_unavailable", 5, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
