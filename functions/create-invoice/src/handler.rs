//! Turns the request into a bill, and what became of it into a response.

use chatbill_domain::bill::Bill;
use chatbill_domain::flows::create_invoice::{CreateError, Deps, Outcome, create_invoice};
use chatbill_domain::flows::read_order::view;
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::json;
use chatbill_domain::payment::Device;
use chatbill_domain::ports::{Clock, HttpSend, OrderStore, Queue, Random, Settings, Tenants};
use chatbill_domain::signature::sha256;
use chatbill_domain::tenant::Scope;
use chatbill_runtime::api::{self, ApiError};
use lambda_http::http::{Method, StatusCode};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt as _, Response};

/// What the function works with.
pub(crate) struct Ports<S, Q, T, P, H, C, R> {
    pub(crate) store: S,
    pub(crate) queue: Q,
    pub(crate) tenants: T,
    pub(crate) settings: P,
    pub(crate) http: H,
    pub(crate) clock: C,
    pub(crate) random: R,
}

/// Letters of a reference we choose. Twenty of them fit every gateway, also Zaakpay's 20 alphanumeric characters.
const ALPHABET: [u8; 32] = *b"abcdefghijkmnpqrstuvwxyz23456789";
const LENGTH: usize = 20;

/// `POST /invoices`
pub(crate) async fn handle<S, Q, T, P, H, C, R>(
    ports: &Ports<S, Q, T, P, H, C, R>,
    request: Request,
) -> Result<Response<Body>, ApiError>
where
    S: OrderStore,
    Q: Queue,
    T: Tenants,
    P: Settings,
    H: HttpSend,
    C: Clock,
    R: Random,
{
    if api::segments(&request)
        .last()
        .is_none_or(|last| last != "invoices")
    {
        return Err(ApiError::not_found("there is no such path"));
    }
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let (tenant, by) =
        api::authenticate(&ports.tenants, request.headers(), Scope::Invoices).await?;
    let document =
        json::parse(api::body(&request)?).map_err(|fault| ApiError::invalid(vec![fault]))?;
    let idempotency_key = api::idempotency_key(&request)?;
    let name = || match &idempotency_key {
        Some(key) => reference(&sha256(format!("{}\n{key}", tenant.id).as_bytes())),
        None => reference(&sha256(&ports.random.bytes())),
    };
    let bill = Bill::read(&document, tenant.country, name).map_err(ApiError::invalid)?;
    let gateways = chatbill_gateways::open_all(&tenant)
        .map_err(|faults| ApiError::broken_tenant(&tenant.id, &faults))?;
    let public_url = ports
        .settings
        .public_url()
        .await
        .map_err(|error| ApiError::unavailable("settings_unavailable", 2, error.to_string()))?;
    let deps = Deps {
        store: &ports.store,
        queue: &ports.queue,
        http: &ports.http,
        clock: &ports.clock,
    };
    let device = device(&request);
    match create_invoice(&deps, &tenant, &gateways, bill, &by, &public_url, device).await {
        Ok(Outcome::Created(order)) => {
            Ok(api::json_response(StatusCode::CREATED, &view(&order, true)))
        }
        Ok(Outcome::Repeated(order)) => Ok(api::json_response(StatusCode::OK, &view(&order, true))),
        Err(error) => Err(failure(error)),
    }
}

/// The device the bill was posted from, as the edge saw it.
fn device(request: &Request) -> Option<Device> {
    let RequestContext::ApiGatewayV1(context) = request.request_context_ref()? else {
        return None;
    };
    Some(Device {
        ip: context.identity.source_ip.clone()?,
        user_agent: context.identity.user_agent.clone()?,
    })
}

/// A reference made from a hash: 20 letters and digits, none easily mistaken for another.
fn reference(hash: &[u8; 32]) -> ReferenceId {
    let text: String = hash
        .iter()
        .take(LENGTH)
        .filter_map(|byte| ALPHABET.get(usize::from(byte & 31)))
        .map(|byte| char::from(*byte))
        .collect();
    #[expect(
        clippy::expect_used,
        reason = "twenty letters and digits are always a reference"
    )]
    ReferenceId::parse(text).expect("letters and digits")
}

fn failure(error: CreateError) -> ApiError {
    match error {
        CreateError::Invalid(faults) => ApiError::invalid(faults),
        CreateError::Conflict => ApiError::conflict(
            "reference_id_conflict",
            "another bill has this reference_id; the same bill would have been answered",
        ),
        CreateError::Refused { code, detail } => {
            ApiError::refused(format!("the payment gateway refused ({code}): {detail}"))
        }
        CreateError::GatewayUnavailable(why) => {
            ApiError::unavailable("gateway_unavailable", 5, why)
        }
        CreateError::Store(error) => error.into(),
        CreateError::Queue(error) => {
            ApiError::unavailable("queue_unavailable", 5, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
