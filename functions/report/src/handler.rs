//! The books of one day: checks who asks and for which day, then writes what the use case reads, as JSON or as CSV.

use chatbill_domain::flows::report::{Cursor, Report, Room, report};
use chatbill_domain::ports::{DayIndex, Tenants};
use chatbill_domain::tenant::Scope;
use chatbill_domain::time::Day;
use chatbill_runtime::api::{self, ApiError};
use lambda_http::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use lambda_http::http::{HeaderMap, HeaderValue, Method, StatusCode};
use lambda_http::{Body, Request, RequestExt as _, Response};
use serde_json::json;

use crate::csv;

/// What one answer may carry. Lambda answers with at most 6 MB, in which every quote of a JSON body counts twice; and the whole answer is
/// in memory more than once.
const ROOM: Room = Room {
    bills: 2_000,
    bytes: 1_500_000,
};

/// What the function works with.
pub(crate) struct Ports<S, T> {
    pub(crate) store: S,
    pub(crate) tenants: T,
}

/// How the books are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

/// `GET /reports/day/{date}`. Routes from the end of the path.
pub(crate) async fn handle<S, T>(
    ports: &Ports<S, T>,
    request: Request,
) -> Result<Response<Body>, ApiError>
where
    S: DayIndex,
    T: Tenants,
{
    within(ports, request, ROOM).await
}

async fn within<S, T>(
    ports: &Ports<S, T>,
    request: Request,
    room: Room,
) -> Result<Response<Body>, ApiError>
where
    S: DayIndex,
    T: Tenants,
{
    let segments = api::segments(&request);
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let [.., "reports", "day", date] = path.as_slice() else {
        return Err(ApiError::not_found("there is no such path"));
    };
    if request.method() != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let (tenant, _) = api::authenticate(&ports.tenants, request.headers(), Scope::Reports).await?;
    let day = Day::parse(date).ok_or_else(|| {
        ApiError::bad_request("invalid_date", "the date must be a day such as 2026-11-22")
    })?;
    let from = after(&request)?;
    let format = format(&request)?;
    let books = report(
        &ports.store,
        &tenant.id,
        day,
        from.as_ref(),
        room,
        |row| match format {
            Format::Json => row.view().to_string(),
            Format::Csv => csv::line(row),
        },
    )
    .await?;
    Ok(match format {
        Format::Json => as_json(day, from.as_ref(), &books),
        Format::Csv => as_csv(day, &books),
    })
}

/// `?after=` as `next` gave it.
fn after(request: &Request) -> Result<Option<Cursor>, ApiError> {
    let query = request.query_string_parameters_ref();
    let Some(text) = query.and_then(|query| query.first("after")) else {
        return Ok(None);
    };
    Cursor::parse(text).map(Some).ok_or_else(|| {
        ApiError::bad_request("invalid_cursor", "after must be what `next` was before")
    })
}

/// `?format=`, or what the caller accepts.
fn format(request: &Request) -> Result<Format, ApiError> {
    let query = request.query_string_parameters_ref();
    match query.and_then(|query| query.first("format")) {
        Some("json") => Ok(Format::Json),
        Some("csv") => Ok(Format::Csv),
        Some(_) => Err(ApiError::bad_request(
            "invalid_format",
            "format must be json or csv",
        )),
        None if prefers_csv(request.headers()) => Ok(Format::Csv),
        None => Ok(Format::Json),
    }
}

/// `text/csv` is named, and JSON is not.
fn prefers_csv(headers: &HeaderMap) -> bool {
    let accepts = |kind: &str| {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| range.split(';').next())
            .any(|range| range.trim().eq_ignore_ascii_case(kind))
    };
    accepts("text/csv") && !accepts("application/json")
}

/// The bills are written already, one by one: as values, all of them together would be many times as large.
fn as_json(day: Day, from: Option<&Cursor>, books: &Report) -> Response<Body> {
    let after = json!(from.map(ToString::to_string));
    let next = json!(books.next.as_ref().map(ToString::to_string));
    let ledger = books.ledger.view();
    let orders = books.lines.join(",");
    let body = format!(
        r#"{{"date":"{day}","currency":"INR","after":{after},"next":{next},"ledger":{ledger},"orders":[{orders}]}}"#
    );
    respond(body, "application/json")
}

/// Only bills: what they add up to is the spreadsheet's business. A part of a day names the next one in `Link` (RFC 8288).
fn as_csv(day: Day, books: &Report) -> Response<Body> {
    let mut response = respond(
        csv::HEADER.to_owned() + &books.lines.concat(),
        "text/csv; charset=utf-8; header=present",
    );
    let headers = response.headers_mut();
    let name = format!("attachment; filename=\"bills-{day}.csv\"");
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    if let Some(next) = &books.next {
        let link = format!("<?format=csv&after={next}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::try_from(link) {
            headers.insert(LINK, link);
        }
    }
    response
}

fn respond(body: String, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
