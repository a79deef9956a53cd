//! HTTP as the handlers see it: problems as RFC 9457 documents, API keys, paths, bodies.

use std::sync::Arc;

use chatbill_domain::fault::{Fault, listed};
use chatbill_domain::ids::TenantId;
use chatbill_domain::ports::{StoreError, TenantError, Tenants};
use chatbill_domain::tenant::{Scope, Tenant};
use lambda_http::http::header::{CONTENT_TYPE, RETRY_AFTER};
use lambda_http::http::{HeaderMap, StatusCode};
use lambda_http::{Body, Request, RequestExt, Response};
use serde_json::{Value, json};

/// The largest body the API reads, in bytes. A bill of 250 items is well below it.
pub const LARGEST_BODY: usize = 256 * 1024;

/// How a request is repeated so that nothing is done twice. A bill or a refund without any name would be another one.
pub const REPEATING: &str = "read the order, or repeat the same request with the same reference_id, refund_id or Idempotency-Key; what has none of them may be carried out twice";

/// What a caller is told when it does not get what it asked for. The internal text goes to the log only.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<Fault>,
    retry_after: Option<u32>,
    internal: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            internal: None,
        }
    }

    /// 400: fields are wrong; all of them are named.
    #[must_use]
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.to_string(),
            many => format!("{} fields are wrong", many.len()),
        };
        Self {
            errors,
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
        }
    }

    /// 400 with a code of its own: these fields are why.
    #[must_use]
    pub fn bad_fields(code: &'static str, errors: Vec<Fault>) -> Self {
        Self {
            code,
            ..Self::invalid(errors)
        }
    }

    /// 400: the body or a parameter cannot be read.
    #[must_use]
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: no key, or not one of ours. Which of the two is not told.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a valid API key is needed in the x-api-key header",
        )
    }

    /// 403: the key may not do this.
    #[must_use]
    pub fn forbidden(scope: Scope) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "missing_scope",
            format!("this API key does not have the scope {}", scope.as_str()),
        )
    }

    /// 404
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 405
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not take this method",
        )
    }

    /// 409
    #[must_use]
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 413
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body is larger than {LARGEST_BODY} bytes"),
        )
    }

    /// 422: a vendor said no.
    #[must_use]
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "provider_refused", detail)
    }

    /// 504: the request used up its time, and where it stood nobody knows. No `Retry-After`: clients that follow it by themselves would
    /// repeat what has no name.
    #[must_use]
    pub fn outcome_unknown() -> Self {
        Self {
            internal: Some("the request's time is used up".to_owned()),
            ..Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "outcome_unknown",
                format!("whether the request took effect is not known: {REPEATING}"),
            )
        }
    }

    /// 503: try again in `seconds`. `internal` goes to the log.
    #[must_use]
    pub fn unavailable(code: &'static str, seconds: u32, internal: impl Into<String>) -> Self {
        Self {
            retry_after: Some(seconds),
            internal: Some(internal.into()),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                code,
                format!("temporarily unavailable: {REPEATING}"),
            )
        }
    }

    /// 500: our fault. `internal` goes to the log.
    #[must_use]
    pub fn internal(internal: impl Into<String>) -> Self {
        Self {
            internal: Some(internal.into()),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "something went wrong on our side",
            )
        }
    }

    /// 500: the tenant's document is not usable; a person has to mend it.
    #[must_use]
    pub fn broken_tenant(tenant: &TenantId, faults: &[Fault]) -> Self {
        Self::internal(format!("tenant document of {tenant}: {}", listed(faults)))
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The problem document. Logs what is ours to mend, once.
    #[must_use]
    pub fn into_response(self, request_id: &str) -> Response<Body> {
        if let Some(internal) = &self.internal {
            tracing::error!(
                http.status = self.status.as_u16(),
                code = self.code,
                "request failed: {internal}"
            );
        } else {
            tracing::info!(
                http.status = self.status.as_u16(),
                code = self.code,
                "request refused"
            );
        }
        let mut problem = json!({
            "type": format!("urn:chatbill:error:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        });
        if let (Some(fields), false) = (problem.as_object_mut(), self.errors.is_empty()) {
            fields.insert("errors".to_owned(), json!(self.errors));
        }
        let mut response = json_response(self.status, &problem);
        response.headers_mut().insert(
            CONTENT_TYPE,
            lambda_http::http::HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                Self::unavailable("store_unavailable", 2, error.to_string())
            }
            StoreError::Corrupt(_) => Self::internal(error.to_string()),
            StoreError::Full(_) => Self::conflict("order_full", error.to_string()),
        }
    }
}

impl From<TenantError> for ApiError {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Unavailable(_) => {
                Self::unavailable("settings_unavailable", 2, error.to_string())
            }
            TenantError::Invalid(_) => Self::internal(error.to_string()),
        }
    }
}

/// A JSON answer.
#[must_use]
pub fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Text(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        lambda_http::http::HeaderValue::from_static("application/json"),
    );
    headers.insert(
        "cache-control",
        lambda_http::http::HeaderValue::from_static("no-store"),
    );
    response
}

/// A plain text answer.
#[must_use]
pub fn text_response(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::Text(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        lambda_http::http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The request's id, for problems and logs.
#[must_use]
pub fn request_id(request: &Request) -> String {
    request
        .lambda_context_ref()
        .map(|context| context.request_id.clone())
        .unwrap_or_default()
}

/// The `Idempotency-Key` header: 1 to 255 visible characters.
pub fn idempotency_key(request: &Request) -> Result<Option<String>, ApiError> {
    let Some(value) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if (1..=255).contains(&text.trim().len()) => Ok(Some(text.trim().to_owned())),
        _ => Err(ApiError::bad_request(
            "invalid_idempotency_key",
            "Idempotency-Key must have 1 to 255 visible characters",
        )),
    }
}

/// The path's segments, decoded. Works with and without a stage or base path in front, because routes are matched from the end.
#[must_use]
pub fn segments(request: &Request) -> Vec<String> {
    request
        .raw_http_path()
        .split('/')
        .filter(|s| !s.is_empty())
        .map(|s| {
            percent_encoding::percent_decode_str(s)
                .decode_utf8_lossy()
                .into_owned()
        })
        .collect()
}

/// The body as bytes, base64 of API Gateway already undone. Lambda itself takes at most 6 MB.
#[must_use]
pub fn bytes(request: &Request) -> &[u8] {
    match request.body() {
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => &[],
    }
}

/// The body of an API call; refused when too large.
pub fn body(request: &Request) -> Result<&[u8], ApiError> {
    let bytes = bytes(request);
    if bytes.len() > LARGEST_BODY {
        Err(ApiError::too_large())
    } else {
        Ok(bytes)
    }
}

/// Who calls: the tenant its API key names, and the key's name. The key is checked here as well as at the API's edge, so that
/// a function called in any other way is not open.
pub async fn authenticate<T: Tenants>(
    tenants: &T,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<(Arc<Tenant>, String), ApiError> {
    let mut keys = headers.get_all("x-api-key").iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(ApiError::unauthorized());
    };
    let key = key.to_str().map_err(|_| ApiError::unauthorized())?;
    let id = Tenant::named_by(key).ok_or_else(ApiError::unauthorized)?;
    let tenant = tenants
        .find(&id)
        .await?
        .ok_or_else(ApiError::unauthorized)?;
    let api_key = tenant.api_key(key).ok_or_else(ApiError::unauthorized)?;
    if !api_key.scopes.contains(&scope) {
        return Err(ApiError::forbidden(scope));
    }
    let by = format!("pos:{}", api_key.id);
    Ok((tenant, by))
}
