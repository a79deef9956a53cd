//! Shows an order, at once or when something changes.

use chatbill_domain::flows::read_order::{read_order, view};
use chatbill_domain::ids::{OrderKey, ReferenceId};
use chatbill_domain::ports::{Clock, OrderStore, Tenants};
use chatbill_domain::tenant::Scope;
use chatbill_runtime::api::{self, ApiError};
use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request, RequestExt, Response};

/// What the function works with.
pub(crate) struct Ports<S, T, C> {
    pub(crate) store: S,
    pub(crate) tenants: T,
    pub(crate) clock: C,
}

/// Longest `?wait=`, in seconds; API Gateway ends a request after 29.
const LONGEST_WAIT: u32 = 25;

/// Routes from the end of the path, so that a stage or base path in front does not matter.
pub(crate) async fn handle<S, T, C>(
    ports: &Ports<S, T, C>,
    request: Request,
) -> Result<Response<Body>, ApiError>
where
    S: OrderStore,
    T: Tenants,
    C: Clock,
{
    let segments = api::segments(&request);
    let [.., "invoices", reference] = *segments.iter().map(String::as_str).collect::<Vec<_>>()
    else {
        return Err(ApiError::not_found("there is no such path"));
    };
    if request.method() != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let (tenant, _) = api::authenticate(&ports.tenants, request.headers(), Scope::Invoices).await?;
    let reference = ReferenceId::parse(reference).map_err(|_| no_such_order())?;
    let key = OrderKey::new(tenant.id.clone(), reference);
    let order = read_order(&ports.store, &ports.clock, &key, wait(&request)?)
        .await?
        .ok_or_else(no_such_order)?;
    Ok(api::json_response(StatusCode::OK, &view(&order, false)))
}

/// `?wait=1..25`
fn wait(request: &Request) -> Result<u32, ApiError> {
    match request
        .query_string_parameters_ref()
        .and_then(|query| query.first("wait"))
    {
        None => Ok(0),
        Some(text) => match text.parse::<u32>() {
            Ok(seconds @ 1..=LONGEST_WAIT) => Ok(seconds),
            _ => Err(ApiError::bad_request(
                "invalid_wait",
                format!("wait must be a number of seconds from 1 to {LONGEST_WAIT}"),
            )),
        },
    }
}

fn no_such_order() -> ApiError {
    ApiError::not_found("there is no order with this reference_id")
}

#[cfg(test)]
mod tests;
