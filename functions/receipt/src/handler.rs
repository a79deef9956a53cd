//! Opens a receipt link: checks its token, reads the order, shows the page, the code or the way to the payment.

use std::sync::Arc;

use chatbill_domain::fault::listed;
use chatbill_domain::flows::create_invoice::payment_request;
use chatbill_domain::ids::TenantId;
use chatbill_domain::order::Order;
use chatbill_domain::payment::PayForm;
use chatbill_domain::ports::{Clock, Links, OrderStore, StoreError, TenantError, Tenants};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;
use chatbill_domain::token::{ReceiptToken, ShortCode};
use chatbill_runtime::api::{self, ApiError};
use lambda_http::http::header::{HeaderName, HeaderValue, LOCATION};
use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request, Response};
use receipt::page::{self, RenderError, View};

/// What the function works with.
pub(crate) struct Ports<S, T, C> {
    pub(crate) store: S,
    pub(crate) tenants: T,
    pub(crate) clock: C,
}

/// Routes from the end of the path, so that a stage or base path in front does not matter.
pub(crate) async fn handle<S: OrderStore + Links, T: Tenants, C: Clock>(
    ports: &Ports<S, T, C>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let segments = api::segments(&request);
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (token, part) = match path.as_slice() {
        [.., "r", token, part @ ("qr.png" | "pay")] => (*token, Some(*part)),
        [.., "r", token] => (*token, None),
        _ => return Err(ApiError::not_found("there is no such path")),
    };
    if request.method() == Method::POST && part.is_none() {
        // PayU, Zaakpay and BillDesk send the customer's browser back with a form. It may say anything, so nothing of it is read.
        return Ok(returned(token));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(ApiError::method_not_allowed());
    }
    let (order, tenant) = match open(ports, token).await {
        Ok(Some(found)) => found,
        Ok(None) => return html(StatusCode::NOT_FOUND, page::not_found()),
        Err(why) => {
            tracing::error!("a receipt could not be read: {why}");
            return html(StatusCode::SERVICE_UNAVAILABLE, page::unavailable());
        }
    };
    let now = ports.clock.now();
    // The same rule as the page's button: an address somebody kept must not lead where the page would not.
    let payable = page::payable(&order, now);
    let link = order
        .started
        .as_ref()
        .filter(|_| payable)
        .map(|s| s.link.as_str());
    match part {
        Some("pay") => match form(&tenant, &order, payable, now) {
            Some(form) => {
                let (page, policy) = page::pay(&order, &tenant, &form)
                    .map_err(|error| ApiError::internal(error.to_string()))?;
                posting(page, &policy)
            }
            None => {
                // A link to this very page leads nowhere without its form.
                let own = format!("{}/pay", order.terms().receipt_url);
                Ok(redirect(link.filter(|link| *link != own), token))
            }
        },
        Some(_) => match link {
            Some(link) => png(link),
            None => html(StatusCode::NOT_FOUND, page::not_found()),
        },
        None => {
            // Relative addresses hold whatever domain and stage the page was opened under.
            let view = View {
                pay_url: link.map(|_| format!("{token}/pay")),
                qr_url: link.map(|_| format!("{token}/qr.png")),
                receipt_url: order.terms().receipt_url.clone(),
                now,
            };
            html(StatusCode::OK, page::render(&order, &tenant, &view))
        }
    }
}

/// The form of a gateway whose payment is no link.
fn form(tenant: &Tenant, order: &Order, payable: bool, now: Millis) -> Option<PayForm> {
    let started = order.started.as_ref().filter(|_| payable)?;
    let gateways = match chatbill_gateways::open_all(tenant) {
        Ok(gateways) => gateways,
        Err(faults) => {
            tracing::error!(event = "tenant_broken", order.tenant_id = %tenant.id, "{}", listed(&faults));
            return None;
        }
    };
    let gateway = gateways.of(order.terms())?;
    let request = payment_request(tenant, gateway, order, None, now);
    gateway.pay_form(&request, started)
}

/// Why a receipt cannot be shown now although its link may be good.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tenant(#[from] TenantError),
}

/// The order a token opens. A token that was never issued, cut, or of another tenant opens nothing.
async fn open<S: OrderStore + Links, T: Tenants, C>(
    ports: &Ports<S, T, C>,
    token: &str,
) -> Result<Option<(Order, Arc<Tenant>)>, OpenError> {
    if let Some(code) = ShortCode::parse(token) {
        return open_short(ports, &code).await;
    }
    let Some(token) = ReceiptToken::parse(token) else {
        return Ok(None);
    };
    let Some(tenant) = ports.tenants.find(token.tenant()).await? else {
        return Ok(None);
    };
    let Some(key) = token.check(&tenant.receipt_secrets) else {
        return Ok(None);
    };
    Ok(ports.store.load(&key).await?.map(|order| (order, tenant)))
}

/// The order a short link of an SMS leads to: one round trip more. A made-up one costs none.
async fn open_short<S: OrderStore + Links, T: Tenants, C>(
    ports: &Ports<S, T, C>,
    code: &ShortCode,
) -> Result<Option<(Order, Arc<Tenant>)>, OpenError> {
    let Some(tenant) = issuer(&ports.tenants, code).await? else {
        return Ok(None);
    };
    let Some(key) = ports.store.follow(code).await? else {
        return Ok(None);
    };
    if key.tenant != tenant.id || !code.opens(&key, &tenant.receipt_secrets) {
        return Ok(None);
    }
    Ok(ports.store.load(&key).await?.map(|order| (order, tenant)))
}

/// The tenant whose secrets made the code. Those at hand are tried first; only for a code that is none of theirs are all listed.
async fn issuer<T: Tenants>(
    tenants: &T,
    code: &ShortCode,
) -> Result<Option<Arc<Tenant>>, TenantError> {
    let known = tenants.known();
    if let Some(tenant) = issuer_among(tenants, code, known.iter()).await? {
        return Ok(Some(tenant));
    }
    let all = tenants.all(false).await?;
    let others = all.iter().filter(|id| !known.contains(id));
    if let Some(tenant) = issuer_among(tenants, code, others).await? {
        return Ok(Some(tenant));
    }
    // A merchant who was added a moment ago has customers, too.
    let now = tenants.all(true).await?;
    issuer_among(tenants, code, now.difference(&all)).await
}

async fn issuer_among<'a, T: Tenants>(
    tenants: &T,
    code: &ShortCode,
    candidates: impl Iterator<Item = &'a TenantId>,
) -> Result<Option<Arc<Tenant>>, TenantError> {
    for id in candidates.filter(|id| code.may_be_of(id)) {
        if let Some(tenant) = tenants.find(id).await?
            && code.is_genuine(id, &tenant.receipt_secrets)
        {
            return Ok(Some(tenant));
        }
    }
    Ok(None)
}

/// Back from the gateway: the page says what is known, and asks to look again.
fn returned(token: &str) -> Response<Body> {
    let mut response = api::text_response(StatusCode::SEE_OTHER, "");
    // Only what has a token's form: an echo of anything else could lead off this site.
    let shaped = ReceiptToken::parse(token).is_some() || ShortCode::parse(token).is_some();
    let target = HeaderValue::from_str(if shaped { token } else { "." })
        .unwrap_or(HeaderValue::from_static("."));
    response.headers_mut().insert(LOCATION, target);
    with_headers(response, &["Content-Type"])
}

/// The page that posts itself, under a policy of its own.
fn posting(page: String, policy: &str) -> Result<Response<Body>, ApiError> {
    let mut response = html(StatusCode::OK, Ok(page))?;
    let policy =
        HeaderValue::from_str(policy).map_err(|error| ApiError::internal(error.to_string()))?;
    response
        .headers_mut()
        .insert("content-security-policy", policy);
    Ok(response)
}

/// To the gateway's page or the UPI app while the bill can be paid; otherwise back to the receipt, which says why not.
fn redirect(link: Option<&str>, token: &str) -> Response<Body> {
    let back = format!("../{token}");
    let target =
        HeaderValue::from_str(link.unwrap_or(&back)).unwrap_or(HeaderValue::from_static("/"));
    let mut response = api::text_response(StatusCode::FOUND, "");
    response.headers_mut().insert(LOCATION, target);
    with_headers(response, &["Content-Type"])
}

fn png(link: &str) -> Result<Response<Body>, ApiError> {
    let bytes = chatbill_qr::png(link).map_err(|error| ApiError::internal(error.to_string()))?;
    let mut response = Response::new(Body::Binary(bytes));
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("image/png"));
    Ok(with_headers(response, &["Content-Type"]))
}

fn html(status: StatusCode, page: Result<String, RenderError>) -> Result<Response<Body>, ApiError> {
    let mut response = Response::new(Body::Text(
        page.map_err(|error| ApiError::internal(error.to_string()))?,
    ));
    *response.status_mut() = status;
    Ok(with_headers(response, &[]))
}

/// Adds the page's headers except those named.
fn with_headers(mut response: Response<Body>, except: &[&str]) -> Response<Body> {
    for (name, value) in page::headers() {
        if except.contains(&name) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests;
