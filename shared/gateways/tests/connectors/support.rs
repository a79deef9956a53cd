//! What tests of several gateways need.

use std::path::PathBuf;

use chatbill_domain::http::{Answer, HttpCall, HttpReply};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::webhook::RawWebhook;
use serde_json::{Value, json};

/// What the registry test wants to know of each gateway.
pub(crate) struct Probe {
    pub(crate) tenant: Tenant,
    /// A webhook as the vendor would sign it.
    pub(crate) webhook: RawWebhook,
    /// The same without its signature, wherever that stands.
    pub(crate) unsigned: RawWebhook,
    /// Calls that must have a snapshot.
    pub(crate) calls: &'static [&'static str],
}

pub(crate) fn tenant(payment: &Value) -> Tenant {
    read(payment).unwrap()
}

pub(crate) fn read(payment: &Value) -> Result<Tenant, String> {
    let document = json!({
        "tenant_id": "acme", "display_name": "Acme Stores",
        "api_keys": [{"id": "pos-1", "sha256": "0".repeat(64), "scopes": ["invoices"]}],
        "receipt_secrets": ["0123456789abcdef"],
        "channel": {"kind": "whatsapp", "provider": "meta", "from": "+918045210677", "credentials": {}},
        "payment": payment,
    });
    Tenant::read(&document.to_string(), false).map_err(|faults| format!("{faults:?}"))
}

pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

pub(crate) fn fixture(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap()
}

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A call as it goes out, without its secret.
pub(crate) fn printed(call: &HttpCall) -> Value {
    let body = call.body.as_ref().map(|(kind, bytes)| {
        let content: Value = serde_json::from_slice(bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes)));
        json!({"type": kind, "content": content})
    });
    json!({
        "label": call.label,
        "method": call.method.as_str(),
        "url": call.url,
        "authorization": call.authorization.as_ref().map(|_| "[redacted]"),
        "headers": call.headers,
        "body": body,
    })
}

pub(crate) fn reply(status: u16, body: &Value) -> Answer {
    Answer::Reply(HttpReply {
        status,
        retry_after: None,
        body: body.to_string().into_bytes(),
    })
}

pub(crate) fn lost() -> Answer {
    Answer::Lost("timed out".into())
}

/// A document with some of its fields changed.
pub(crate) fn with(document: &Value, changes: &Value) -> Value {
    let mut document = document.clone();
    for (name, value) in changes.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}
