//! The trigger payloads in `events/`, and what an answer to one looks like in a snapshot.

use std::path::PathBuf;

use aws_lambda_events::event::sqs::SqsEvent;
use lambda_http::{Body, Request, Response};
use serde_json::{Map, Value, json};

use crate::world::leaks;

/// Headers that change with the page's design; a snapshot only says that they are there.
const DESIGN: [&str; 1] = ["content-security-policy"];

fn folder(function: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../events")).join(function)
}

/// The names of a function's payloads, sorted.
#[must_use]
pub fn names(function: &str) -> Vec<String> {
    let folder = folder(function);
    let files =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = files
        .map(|file| {
            let path = file.unwrap().path();
            assert_eq!(path.extension().unwrap(), "json", "{}", path.display());
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names
}

/// Fails when a payload of the function is not among `used`, or one of those is missing or named twice.
pub fn assert_all_used<'a>(function: &str, used: impl IntoIterator<Item = &'a str>) {
    let mut used: Vec<&str> = used.into_iter().collect();
    used.sort_unstable();
    assert_eq!(
        used,
        names(function),
        "left: what the tests use; right: the files of events/{function}"
    );
}

/// A payload as it stands in its file.
#[must_use]
pub fn text(function: &str, name: &str) -> String {
    let path = folder(function).join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A payload of an HTTP function, as its handler gets it.
#[must_use]
pub fn request(function: &str, name: &str) -> Request {
    read_request(&text(function, name))
}

/// A payload of an HTTP function, changed before it is read.
#[must_use]
pub fn request_with(function: &str, name: &str, change: impl FnOnce(&mut Value)) -> Request {
    let mut payload: Value = serde_json::from_str(&text(function, name)).unwrap();
    change(&mut payload);
    read_request(&payload.to_string())
}

fn read_request(payload: &str) -> Request {
    lambda_http::request::from_str(payload).unwrap_or_else(|error| panic!("{error}: {payload}"))
}

/// A payload of a queue function.
#[must_use]
pub fn batch(function: &str, name: &str) -> SqsEvent {
    serde_json::from_str(&text(function, name)).unwrap()
}

/// An answer for a snapshot. An error that shows a secret or a customer's data fails the test here.
#[must_use]
pub fn answer(response: &Response<Body>) -> Value {
    let headers: Map<String, Value> = response
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = if DESIGN.contains(&name.as_str()) {
                "…"
            } else {
                value.to_str().unwrap()
            };
            (name.to_string(), json!(value))
        })
        .collect();
    json!({
        "status": response.status().as_u16(),
        "headers": headers,
        "body": body(response),
    })
}

fn body(response: &Response<Body>) -> Value {
    let text = match response.body() {
        Body::Text(text) => text.as_str(),
        Body::Binary(bytes) => {
            assert!(bytes.starts_with(b"\x89PNG"), "binary, but not a PNG");
            return json!("a PNG");
        }
        _ => "",
    };
    assert_discreet(response);
    let kind = response.headers().get("content-type");
    match kind.map_or("", |kind| kind.to_str().unwrap()) {
        kind if kind.contains("json") => serde_json::from_str(text).unwrap(),
        kind if kind.starts_with("text/html") => {
            let title = text
                .split_once("<title>")
                .and_then(|(_, t)| t.split_once("</title>"));
            json!({"title": title.map(|(title, _)| title)})
        }
        _ => json!(text),
    }
}

/// Fails when an error shows a secret or a customer's data.
pub fn assert_discreet(response: &Response<Body>) {
    if let (false, Body::Text(text)) = (response.status().is_success(), response.body()) {
        assert_eq!(leaks(text), [""; 0], "{text}");
    }
}

/// The JSON of an answer.
#[must_use]
pub fn json_body(response: &Response<Body>) -> Value {
    match response.body() {
        Body::Text(text) => serde_json::from_str(text).unwrap(),
        other => panic!("not a text: {other:?}"),
    }
}
