//! One call to the sandbox and the answer to it, independent of the HTTP server.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// A call as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `GET`, `POST`, ...
    pub(crate) method: String,
    /// The whole path, as sent.
    pub(crate) path: String,
    /// The path's segments after the vendor's prefix, percent-decoded.
    pub(crate) segments: Vec<String>,
    /// The query, percent-decoded.
    pub(crate) query: Vec<(String, String)>,
    /// Headers, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The raw body.
    pub(crate) body: Vec<u8>,
}

/// One part of a multipart form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// The field's name.
    pub(crate) name: &'a str,
    /// The file's name, if it is a file.
    pub(crate) filename: Option<&'a str>,
    /// Its `Content-Type`, if it has one.
    pub(crate) kind: Option<&'a str>,
    /// Its content.
    pub(crate) content: &'a [u8],
}

/// A body larger than this is cut off: no vendor takes more on these paths.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

impl Call {
    /// Reads a request completely. The first path segment is returned apart: it names the vendor.
    pub(crate) async fn read(request: Request<Body>) -> Result<(String, Self), axum::Error> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let mut segments = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(decode)
            .collect::<Vec<_>>()
            .into_iter();
        let first = segments.next().unwrap_or_default();
        let query = pairs(parts.uri.query().unwrap_or_default());
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let body = axum::body::to_bytes(body, BODY_LIMIT).await?.to_vec();
        let call = Self {
            method: parts.method.as_str().to_owned(),
            path,
            segments: segments.collect(),
            query,
            headers,
            body,
        };
        Ok((first, call))
    }

    /// The method and the segments, to be matched on.
    pub(crate) fn route(&self) -> (&str, Vec<&str>) {
        (
            self.method.as_str(),
            self.segments.iter().map(String::as_str).collect(),
        )
    }

    /// A header by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// A query parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON, if it is JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The fields of a form, urlencoded or multipart, in order; `None` if the body says that it is neither.
    pub(crate) fn form(&self) -> Option<Vec<(String, String)>> {
        let kind = self.header("content-type")?;
        let text = String::from_utf8_lossy(&self.body);
        if kind.starts_with("application/x-www-form-urlencoded") {
            return Some(pairs(&text));
        }
        let (_, boundary) = kind
            .strip_prefix("multipart/form-data")?
            .split_once("boundary=")?;
        let boundary = boundary.split(';').next()?.trim().trim_matches('"');
        // RFC 2046: a boundary stands at the beginning of a line and takes the line end before it.
        let fields = format!("\r\n{text}")
            .split(&format!("\r\n--{boundary}"))
            .filter_map(|part| {
                let (head, content) = part.strip_prefix("\r\n")?.split_once("\r\n\r\n")?;
                let (_, name) = head.split_once(" name=\"")?;
                let (name, _) = name.split_once('"')?;
                Some((name.to_owned(), content.to_owned()))
            })
            .collect();
        Some(fields)
    }

    /// The parts of a multipart form to the byte, as files need it; `None` if the body says that it is none.
    pub(crate) fn parts(&self) -> Option<Vec<Part<'_>>> {
        let kind = self.header("content-type")?;
        let (_, boundary) = kind
            .strip_prefix("multipart/form-data")?
            .split_once("boundary=")?;
        let boundary = boundary.split(';').next()?.trim().trim_matches('"');
        let mut found = Vec::new();
        let opening = format!("--{boundary}\r\n");
        let mut rest = self.body.strip_prefix(opening.as_bytes())?;
        loop {
            let (part, following) = around(rest, format!("\r\n--{boundary}").as_bytes())?;
            let (head, content) = around(part, b"\r\n\r\n")?;
            found.push(read_part(std::str::from_utf8(head).ok()?, content)?);
            match following.strip_prefix(b"\r\n") {
                Some(next) => rest = next,
                // Without its end somebody cut it off.
                None => return following.starts_with(b"--").then_some(found),
            }
        }
    }

    /// The body for a record: JSON if it is, a form's fields as an object (of files only name, type and size), else text.
    pub(crate) fn body_for_record(&self) -> Value {
        if let Some(parts) = self
            .parts()
            .filter(|parts| parts.iter().any(|part| part.filename.is_some()))
        {
            parts
                .into_iter()
                .map(|part| {
                    let shown = match part.filename {
                        Some(file) => format!(
                            "{file} ({}, {} bytes)",
                            part.kind.unwrap_or("no type"),
                            part.content.len()
                        ),
                        None => String::from_utf8_lossy(part.content).into_owned(),
                    };
                    (part.name.to_owned(), Value::from(shown))
                })
                .collect::<serde_json::Map<_, _>>()
                .into()
        } else if let Some(form) = self.form() {
            form.into_iter()
                .map(|(name, value)| (name, Value::from(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        } else if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
                .unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned().into())
        }
    }

    /// The headers for a record: what proves who calls is replaced, its scheme stays.
    pub(crate) fn headers_for_record(&self) -> Value {
        self.headers
            .iter()
            .map(|(name, value)| {
                let shown = match name.as_str() {
                    "authorization" => {
                        format!("{} ***", value.split(' ').next().unwrap_or_default())
                    }
                    "api-key" | "x-api-key" | "cookie" => "***".to_owned(),
                    _ => value.clone(),
                };
                (name.clone(), Value::from(shown))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// What stands before and after the first `mark`.
fn around<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark)?;
    let (before, rest) = bytes.split_at(at);
    Some((before, rest.strip_prefix(mark)?))
}

fn read_part<'a>(head: &'a str, content: &'a [u8]) -> Option<Part<'a>> {
    let header = |wanted: &str| {
        head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let disposition = header("content-disposition")?.strip_prefix("form-data;")?;
    let parameter = |wanted: &str| {
        disposition.split(';').find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == wanted).then(|| value.trim_matches('"'))
        })
    };
    Some(Part {
        name: parameter("name")?,
        filename: parameter("filename"),
        kind: header("content-type"),
        content,
    })
}

/// The pairs of a query or an urlencoded form.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                decode(&name.replace('+', " ")),
                decode(&value.replace('+', " ")),
            )
        })
        .collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// An answer, and what the record of the call should say about it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Further headers.
    pub(crate) headers: Vec<(String, String)>,
    /// Content type.
    pub(crate) content_type: &'static str,
    /// Body.
    pub(crate) body: Vec<u8>,
    /// The reference of the order the call was about, where the vendor knows it.
    pub(crate) reference_id: Option<String>,
    /// The vendor account that called.
    pub(crate) account: Option<String>,
}

impl Answer {
    /// A JSON answer.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type: "application/json",
            body: body.to_string().into_bytes(),
            reference_id: None,
            account: None,
        }
    }

    /// A page.
    pub(crate) fn html(status: u16, body: String) -> Self {
        Self {
            content_type: "text/html; charset=utf-8",
            body: body.into_bytes(),
            ..Self::json(status, &Value::Null)
        }
    }

    /// An XML answer.
    pub(crate) fn xml(status: u16, body: String) -> Self {
        Self {
            content_type: "application/xml",
            body: body.into_bytes(),
            ..Self::json(status, &Value::Null)
        }
    }

    /// A control API error.
    pub(crate) fn control_error(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self::json(status, &json!({"error": code, "detail": detail.into()}))
    }

    /// The same answer, known to be about an order.
    pub(crate) fn about(mut self, reference_id: impl Into<String>) -> Self {
        self.reference_id = Some(reference_id.into());
        self
    }

    /// The body for a record.
    pub(crate) fn body_for_record(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.body).into_owned().into())
    }

    /// The answer for the HTTP server.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(
            axum::http::header::CONTENT_TYPE,
            HeaderValue::from_static(self.content_type),
        );
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::try_from(value.as_str()),
            ) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
