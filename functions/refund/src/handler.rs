//! Refunds. Who asks is checked and the order must exist; the refund itself is answered with 501 until it is built.

use chatbill_domain::ids::{OrderKey, ReferenceId};
use chatbill_domain::ports::{OrderStore, Tenants};
use chatbill_domain::tenant::Scope;
use chatbill_runtime::api::{self, ApiError};
use lambda_http::http::Method;
use lambda_http::{Body, Request, Response};

/// What the function works with.
pub(crate) struct Ports<S, T> {
    pub(crate) store: S,
    pub(crate) tenants: T,
}

/// `POST` and `GET /invoices/{reference_id}/refunds`
pub(crate) async fn handle<S: OrderStore, T: Tenants>(
    ports: &Ports<S, T>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let segments = api::segments(&request);
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let [.., "invoices", reference, "refunds"] = path.as_slice() else {
        return Err(ApiError::not_found("there is no such path"));
    };
    if request.method() != Method::POST && request.method() != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let (tenant, _) = api::authenticate(&ports.tenants, request.headers(), Scope::Refunds).await?;
    let missing = || ApiError::not_found("there is no order with this reference_id");
    let reference = ReferenceId::parse(*reference).map_err(|_| missing())?;
    let key = OrderKey::new(tenant.id.clone(), reference);
    ports.store.load(&key).await?.ok_or_else(missing)?;
    Err(ApiError::not_implemented(
        "refunds are not offered yet; refund in the gateway's dashboard",
    ))
}

#[cfg(test)]
mod tests;
