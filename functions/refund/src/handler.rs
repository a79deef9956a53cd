//! Refunds of one order: checks who asks and what for, then leaves the rest to the use case.

use chatbill_domain::fault::Fault;
use chatbill_domain::flows::apply_webhook::Askable;
use chatbill_domain::flows::read_order::{refund_view, refunds_view, view};
use chatbill_domain::flows::refund::{Deps, RefundError, Refunded, refund, settle, settle_refund};
use chatbill_domain::ids::{OrderKey, ReferenceId};
use chatbill_domain::json;
use chatbill_domain::order::SEND_BACK_PREFIX;
use chatbill_domain::payment::Speed;
use chatbill_domain::ports::{Clock, HttpSend, OrderStore, Queue, Tenants};
use chatbill_domain::refund::{Ask, RefundState, header_name};
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

/// `POST` and `GET /invoices/{reference_id}/refunds`, `POST /invoices/{reference_id}/settle`. Routes from the end of the path.
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
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let [.., "invoices", reference, part @ ("refunds" | "settle")] = path.as_slice() else {
        return Err(ApiError::not_found("there is no such path"));
    };
    let reads = request.method() == Method::GET && *part == "refunds";
    if !reads && request.method() != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let (tenant, by) = api::authenticate(&ports.tenants, request.headers(), Scope::Refunds).await?;
    let reference = ReferenceId::parse(*reference).map_err(|_| no_such_order())?;
    let key = OrderKey::new(tenant.id.clone(), reference);
    if reads {
        let order = ports.store.load(&key).await?.ok_or_else(no_such_order)?;
        return Ok(api::json_response(StatusCode::OK, &refunds_view(&order)));
    }
    if *part == "settle" {
        let order = match settle_body(api::body(&request)?)? {
            Decision::Payment { id, accept } => settle(&deps(ports), &key, &id, accept, &by).await,
            Decision::Refund { id, processed } => {
                settle_refund(&deps(ports), &key, &id, processed, &by).await
            }
        };
        let order = order.map_err(failure)?;
        return Ok(api::json_response(StatusCode::OK, &view(&order, false)));
    }
    post(ports, &tenant, &key, &by, &request).await
}

async fn post<S, Q, T, H, C>(
    ports: &Ports<S, Q, T, H, C>,
    tenant: &Tenant,
    key: &OrderKey,
    by: &str,
    request: &Request,
) -> Result<Response<Body>, ApiError>
where
    S: OrderStore,
    Q: Queue,
    T: Tenants,
    H: HttpSend,
    C: Clock,
{
    let (id, ask) = refund_body(api::body(request)?)?;
    let header = api::idempotency_key(request)?;
    let name = id.or_else(|| Some(header_name(key, &header?)));
    let broken = |faults: Vec<Fault>| ApiError::broken_tenant(&tenant.id, &faults);
    let gateways = chatbill_gateways::open_all(tenant).map_err(broken)?;
    let channel = chatbill_channels::open(tenant).map_err(broken)?;
    let askable = Askable {
        gateways: &gateways,
        channel: channel.as_ref(),
    };
    let Refunded { order, id, new } = refund(&deps(ports), askable, key, name.as_deref(), ask, by)
        .await
        .map_err(failure)?;
    let Some(refund) = order.refunds.find(&id) else {
        return Err(ApiError::internal(format!("{key}: a refund vanished")));
    };
    // 202: it is taken down and will be seen through, but the gateway has not said yes. What waits for the shop alone is settled.
    let status = match refund.state {
        RefundState::Asking | RefundState::Waiting | RefundState::Unknown
            if refund.obstacle().is_none() =>
        {
            StatusCode::ACCEPTED
        }
        _ if new => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok(api::json_response(status, &refund_view(refund)))
}

fn deps<S, Q, T, H, C>(ports: &Ports<S, Q, T, H, C>) -> Deps<'_, S, Q, H, C> {
    Deps {
        store: &ports.store,
        queue: &ports.queue,
        http: &ports.http,
        clock: &ports.clock,
    }
}

/// `{"refund_id"?, "amount"?, "speed"?, "reason"?, "payment_id"?}`; nothing at all refunds all that is left. A part needs a name.
fn refund_body(body: &[u8]) -> Result<(Option<String>, Ask), ApiError> {
    let empty = body.iter().all(u8::is_ascii_whitespace);
    let body = if empty { b"{}" } else { body };
    let document = json::parse(body).map_err(|fault| ApiError::invalid(vec![fault]))?;
    json::read(&document, "", |f| {
        let id = f.parsed("refund_id", |text| match ReferenceId::parse(text) {
            Ok(id) if id.as_str().starts_with(SEND_BACK_PREFIX) => {
                Err("a name that does not begin with back-, which is for what the terms send back")
            }
            Ok(id) => Ok(id.to_string()),
            Err(_) => Err(ReferenceId::RULE),
        });
        let amount = f.object("amount", json::amount);
        if amount.is_some_and(|a| a.get() == 0) {
            f.fault("amount", "too_small", "must be more than nothing");
        }
        let speed = match f.value("speed") {
            None => Some(Speed::Normal),
            Some(_) => f.parsed("speed", |text| match text.as_str() {
                "normal" => Ok(Speed::Normal),
                "instant" => Ok(Speed::Instant),
                _ => Err("normal or instant"),
            }),
        };
        let reason = f.text("reason", 120);
        let payment_id = f.text("payment_id", 80);
        let ask = Ask {
            amount,
            payment_id,
            speed: speed?,
            reason,
        };
        Some((id, ask))
    })
    .map_err(ApiError::invalid)
}

/// What a person decided.
enum Decision {
    Payment { id: String, accept: bool },
    Refund { id: String, processed: bool },
}

/// `{"payment_id": "…", "decision": "accept" | "dismiss"}` or `{"refund_id": "…", "decision": "processed" | "failed"}`
fn settle_body(body: &[u8]) -> Result<Decision, ApiError> {
    let document = json::parse(body).map_err(|fault| ApiError::invalid(vec![fault]))?;
    json::read(&document, "", |f| {
        if f.value("refund_id").is_some() {
            let id = f.text("refund_id", 80);
            let processed = f.required("decision").and_then(|_| {
                f.parsed("decision", |text| match text.as_str() {
                    "processed" => Ok(true),
                    "failed" => Ok(false),
                    _ => Err("processed or failed"),
                })
            });
            let (id, processed) = (id?, processed?);
            return Some(Decision::Refund { id, processed });
        }
        let id = f.required_text("payment_id", 80);
        let accept = f.required("decision").and_then(|_| {
            f.parsed("decision", |text| match text.as_str() {
                "accept" => Ok(true),
                "dismiss" => Ok(false),
                _ => Err("accept or dismiss"),
            })
        });
        let (id, accept) = (id?, accept?);
        Some(Decision::Payment { id, accept })
    })
    .map_err(ApiError::invalid)
}

fn no_such_order() -> ApiError {
    ApiError::not_found("there is no order with this reference_id")
}

fn failure(error: RefundError) -> ApiError {
    match error {
        RefundError::NotFound => no_such_order(),
        RefundError::NotPaid => ApiError::conflict(
            "nothing_paid",
            "there is no such payment of this order, or it is not held",
        ),
        RefundError::Exceeds { left } => ApiError::conflict(
            "refund_exceeds_captured",
            format!("{} are left to refund", left.rupees()),
        ),
        RefundError::TooMany => ApiError::conflict(
            "too_many_refunds",
            "this order has had as many refunds as it can keep",
        ),
        RefundError::Conflict => ApiError::conflict(
            "refund_id_conflict",
            "another refund of this order has this refund_id; the same request would have been answered",
        ),
        RefundError::Unnamed => ApiError::bad_fields(
            "refund_id_required",
            vec![Fault::new(
                "/refund_id",
                "refund_id_required",
                "a part of a payment is refunded under a refund_id or an Idempotency-Key, so that a repeated request is not a second refund",
            )],
        ),
        RefundError::Impossible(faults) => ApiError::invalid(faults),
        RefundError::Refused { code, detail } => {
            ApiError::refused(format!("the refund was refused ({code}): {detail}"))
        }
        RefundError::Unanswered(error) => {
            ApiError::unavailable("gateway_unavailable", 5, error.to_string())
        }
        RefundError::Store(error) => error.into(),
        RefundError::Queue(error) => {
            ApiError::unavailable("queue_unavailable", 5, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
