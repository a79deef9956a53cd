//! Razorpay and Meta in memory, as far as the chain needs them, at the end of a line that can break. They remember what they did, so that a
//! test can tell what a customer saw and whether a vendor was asked to do anything twice.

use std::sync::{Arc, Mutex};

use chatbill_domain::connector::{Gateway, Signal};
use chatbill_domain::http::{Answer, HttpCall, HttpReply, Method};
use chatbill_domain::ports::{Clock as _, HttpSend};
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::memory::FixedClock;
use chatbill_testkit::network::{Break, Network};
use serde_json::{Value, json};

/// A message Meta accepted.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) wamid: String,
    /// `order_details` or `order_status`.
    pub(crate) kind: String,
    /// The message's reference.
    pub(crate) reference: String,
    pub(crate) tag: String,
    reported: bool,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Value>,
    creations: usize,
    accepted: Vec<Accepted>,
}

/// The vendors.
#[derive(Debug, Clone)]
pub(crate) struct World {
    network: Network,
    clock: FixedClock,
    state: Arc<Mutex<State>>,
}

impl World {
    pub(crate) fn on(network: &Network, clock: &FixedClock) -> Self {
        Self {
            network: network.clone(),
            clock: clock.clone(),
            state: Arc::default(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// How many links Razorpay made.
    pub(crate) fn links_made(&self) -> usize {
        self.with(|s| s.creations)
    }

    /// Every message Meta accepted.
    pub(crate) fn accepted(&self) -> Vec<Accepted> {
        self.with(|s| s.accepted.clone())
    }

    /// The customer pays the link, if there is one. Gives the signed webhook Razorpay then sends.
    pub(crate) fn pay(&self) -> Option<RawWebhook> {
        let now = self.clock.now().seconds();
        self.with(|s| {
            let link = s.link.as_mut()?;
            link["status"] = json!("paid");
            link["amount_paid"] = link["amount"].clone();
            link["order_id"] = json!("order_1");
            link["payments"] = json!([{"payment_id": "pay_1", "amount": link["amount"], "status": "captured", "method": "upi", "created_at": now}]);
            let body = json!({
                "entity": "event", "event": "payment_link.paid", "created_at": now,
                "payload": {
                    "payment_link": {"entity": link},
                    "payment": {"entity": {"id": "pay_1", "amount": link["amount"], "currency": "INR", "status": "captured",
                        "order_id": "order_1", "method": "upi", "created_at": now}},
                }
            })
            .to_string()
            .into_bytes();
            let signature = hmac_sha256(b"test-webhook-secret", &body);
            let signature: String = signature.iter().map(|b| format!("{b:02x}")).collect();
            Some(RawWebhook { headers: vec![("x-razorpay-signature".into(), signature)], query: vec![], body })
        })
    }

    /// Delivery reports Meta still owes, as its webhooks.
    pub(crate) fn reports(&self) -> Vec<RawWebhook> {
        let due: Vec<Accepted> = self.with(|s| {
            s.accepted
                .iter_mut()
                .filter(|m| !m.reported)
                .map(|m| {
                    m.reported = true;
                    m.clone()
                })
                .collect()
        });
        due.into_iter()
            .map(|m| report(&m, self.clock.now().seconds()))
            .collect()
    }

    fn razorpay(&self, call: &HttpCall) -> HttpReply {
        let body: Value = call
            .body
            .as_ref()
            .map(|(_, b)| serde_json::from_slice(b).unwrap())
            .unwrap_or_default();
        self.with(|s| match (call.method, call.label) {
            (Method::Post, "razorpay.create_link") => {
                if s.link.is_some() {
                    return reply(400, &json!({"error": {"code": "BAD_REQUEST_ERROR",
                        "description": "payment link creation with reference ID already attempted"}}));
                }
                s.creations += 1;
                let link = json!({
                    "id": "plink_1", "short_url": "https://rzp.io/i/x", "status": "created", "amount": body["amount"],
                    "amount_paid": 0, "currency": "INR", "reference_id": body["reference_id"], "expire_by": body["expire_by"],
                    "notes": body["notes"], "payments": null
                });
                s.link = Some(link.clone());
                reply(200, &link)
            }
            (Method::Get, "razorpay.find_link") => {
                let links: Vec<&Value> = s.link.iter().collect();
                reply(200, &json!({"payment_links": links}))
            }
            (Method::Get, "razorpay.list_refunds") => reply(200, &json!({"entity": "collection", "count": 0, "items": []})),
            (Method::Get, _) => match &s.link {
                Some(link) => reply(200, link),
                None => reply(400, &json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "The id provided does not exist"}})),
            },
            _ => panic!("the chain does not make this call: {}", call.label),
        })
    }

    fn meta(&self, call: &HttpCall) -> HttpReply {
        let body: Value = serde_json::from_slice(&call.body.as_ref().unwrap().1).unwrap();
        let text = body.to_string();
        let kind = if text.contains("order_details") {
            "order_details"
        } else if body["type"] == "text" {
            "text"
        } else {
            "order_status"
        };
        let reference = find(&body, "reference_id").unwrap_or_default();
        self.with(|s| {
            // As long as Meta's are, because every order stores them.
            let wamid = format!("wamid.HBgLMTY1MDUwNzY1MjAVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RT{:02}", s.accepted.len() + 1);
            s.accepted.push(Accepted {
                wamid: wamid.clone(),
                kind: kind.to_owned(),
                reference,
                tag: body["biz_opaque_callback_data"].as_str().unwrap().to_owned(),
                reported: false,
            });
            reply(200, &json!({"messaging_product": "whatsapp", "contacts": [], "messages": [{"id": wamid}]}))
        })
    }
}

impl HttpSend for World {
    async fn send(&self, call: &HttpCall) -> Answer {
        let trouble = self.network.begin(call.label);
        if trouble == Some(Break::Request) {
            return Answer::NotSent("the line is broken".to_owned());
        }
        let reply = if call.label.starts_with("razorpay") {
            self.razorpay(call)
        } else {
            self.meta(call)
        };
        if trouble == Some(Break::Answer) {
            Answer::Lost("the line is broken".to_owned())
        } else {
            Answer::Reply(reply)
        }
    }
}

/// Reads a webhook as the function does: verified first.
pub(crate) fn read_gateway(gateway: &dyn Gateway, raw: RawWebhook) -> Vec<Signal> {
    gateway.read(&gateway.verify(raw).unwrap()).unwrap()
}

fn report(message: &Accepted, now: i64) -> RawWebhook {
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp", "metadata": {"phone_number_id": "106540352242922"},
            "statuses": [{"id": message.wamid, "status": "delivered", "timestamp": now.to_string(),
                "recipient_id": "919876543210", "biz_opaque_callback_data": message.tag}]
        }}]}]
    })
    .to_string()
    .into_bytes();
    let signature: String = hmac_sha256(b"test-app-secret", &body)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    RawWebhook {
        headers: vec![("x-hub-signature-256".into(), format!("sha256={signature}"))],
        query: vec![],
        body,
    }
}

fn reply(status: u16, body: &Value) -> HttpReply {
    HttpReply {
        status,
        retry_after: None,
        body: body.to_string().into_bytes(),
    }
}

/// The first field of this name, wherever it is.
fn find(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::Object(fields) => match fields.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => fields.values().find_map(|v| find(v, name)),
        },
        Value::Array(items) => items.iter().find_map(|v| find(v, name)),
        _ => None,
    }
}
