//! A sandbox, a client of it, and a receiver of its webhooks.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use base64::Engine;
use serde_json::{Value, json};

/// A webhook as it came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Vec<u8>,
    pub(crate) body: Value,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Inside {
    got: Vec<Got>,
    statuses: VecDeque<u16>,
}

/// Receives webhooks.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    inside: Arc<Mutex<Inside>>,
}

async fn receive(
    State(inside): State<Arc<Mutex<Inside>>>,
    uri: Uri,
    headers: HeaderMap,
    raw: Bytes,
) -> (StatusCode, String) {
    let mut inside = inside.lock().unwrap();
    if let Some(query) = uri.query().filter(|query| query.contains("hub.")) {
        // Meta's verification GET: the right token gets its challenge back.
        let part = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name))
                .unwrap_or_default()
                .to_owned()
        };
        return if part("hub.verify_token=") == "verify" {
            (StatusCode::OK, part("hub.challenge="))
        } else {
            (StatusCode::FORBIDDEN, String::new())
        };
    }
    inside.got.push(Got {
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        body: serde_json::from_slice(&raw).unwrap_or_default(),
        raw: raw.to_vec(),
    });
    let status = inside.statuses.pop_front().unwrap_or(200);
    // What Zaakpay wants to hear; the others do not listen.
    let said = if uri.path().ends_with("/curt") {
        ""
    } else {
        "SUCCESS"
    };
    (StatusCode::from_u16(status).unwrap(), said.to_owned())
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside = Arc::new(Mutex::new(Inside::default()));
        let router = axum::Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&inside));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inside }
    }

    /// What it answers next, before it goes back to 200.
    pub(crate) fn answer_with(&self, statuses: &[u16]) {
        self.inside.lock().unwrap().statuses.extend(statuses);
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.inside.lock().unwrap().got.clone()
    }

    /// Razorpay's event names, in order of arrival.
    pub(crate) fn events(&self) -> Vec<String> {
        self.got()
            .iter()
            .filter_map(|got| got.body["event"].as_str().map(str::to_owned))
            .collect()
    }

    /// Meta's statuses, in order of arrival.
    pub(crate) fn statuses(&self) -> Vec<Value> {
        self.got()
            .iter()
            .filter_map(|got| {
                got.body
                    .pointer("/entry/0/changes/0/value/statuses/0")
                    .cloned()
            })
            .collect()
    }
}

/// A sandbox with one Razorpay and one Meta account.
pub(crate) struct Bench {
    pub(crate) sandbox: sandbox::Sandbox,
    pub(crate) receiver: Receiver,
    client: reqwest::Client,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the product's client is not to be shared with the sandbox"
)]
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let bench = Self {
            sandbox: sandbox::Sandbox::start().await.unwrap(),
            receiver: Receiver::start().await,
            client: client(),
        };
        bench
            .control(
                "settings",
                json!({"retry_base_ms": 5, "webhook_delay_ms": 0, "webhook_timeout_ms": 500}),
            )
            .await;
        bench.register(json!({}), json!({})).await;
        bench
    }

    /// Registers the two accounts again, with changes.
    pub(crate) async fn register(&self, razorpay: Value, meta: Value) {
        let mut accounts = json!({
            "razorpay": {
                "key_id": "rzp_test_shop", "key_secret": "key_secret_demo", "account_id": "acc_TstShop0000001",
                "webhook_url": format!("{}/razorpay", self.receiver.url), "webhook_secret": "whsec_shop_demo_01",
            },
            "meta": {
                "phone_number_id": "106540352242922", "waba_id": "102290129340398", "access_token": "token",
                "app_secret": "app secret", "verify_token": "verify",
                "webhook_url": format!("{}/meta", self.receiver.url),
                "configurations": [
                    {"configuration_name": "shop pay", "provider_name": "razorpay"},
                    {"configuration_name": "asleep", "provider_name": "razorpay", "status": "Needs_Testing"},
                ],
                "templates": [
                    {"name": "bill", "language": "en", "kind": "order_details", "variables": 1},
                    {"name": "status", "language": "en", "kind": "order_status"},
                    {"name": "receipt", "language": "en", "kind": "body", "variables": 2},
                    {"name": "paused", "language": "en", "kind": "body", "status": "PAUSED"},
                ],
            },
        });
        for (vendor, changes) in [("razorpay", razorpay), ("meta", meta)] {
            accounts[vendor]
                .as_object_mut()
                .unwrap()
                .extend(changes.as_object().unwrap().clone());
        }
        self.control("accounts", accounts).await;
    }

    /// Registers an account of another vendor, with changes.
    async fn register_one(&self, vendor: &str, mut account: Value, changes: Value) {
        account
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        self.control("accounts", json!({vendor: account})).await;
    }

    /// Registers the Exotel account.
    pub(crate) async fn exotel_account(&self, changes: Value) {
        let account = json!({
            "account_sid": "acme1", "api_key": "key", "api_token": "token", "from": "+918047109880",
            "webhook_url": format!("{}/exotel", self.receiver.url),
            "configurations": [{"configuration_name": "shop pay", "provider_name": "razorpay", "gateway_account": "rzp_test_shop"}],
            "templates": [
                {"name": "bill", "language": "en", "kind": "order_details", "variables": 1},
                {"name": "receipt", "language": "en", "kind": "body", "variables": 2},
            ],
            "sms": {"dlt": {
                "entity_id": "1101", "senders": ["ACMEST"],
                "templates": [
                    {"id": "1107", "text": "Dear {#var#}, pay Rs.{#var#} at {#var#} -Acme"},
                    {"id": "1108", "text": "₹{#var#} -Acme"},
                    {"id": "1109", "text": "Old -Acme", "status": "inactive"},
                    {"id": "1110", "text": "Bad -Acme", "status": "blacklisted"},
                ],
            }},
        });
        self.register_one("exotel", account, changes).await;
    }

    /// Registers the Kaleyra account.
    pub(crate) async fn kaleyra_account(&self, changes: Value) {
        let account = json!({
            "sid": "HXIN1", "api_key": "key", "from": "+918045210677",
            "callback_profiles": [{
                "id": "IN_1", "url": format!("{}/kaleyra", self.receiver.url),
                "headers": {"X-Callback-Token": "secret"},
                "body": {
                    "status": r#"{"event": "{event}", "id": "{message_id}", "status": "{status}", "to": "{recipient}", "code": "{error_code}", "reference_id": "{reference_id}"}"#,
                    "payment": r#"{"event": "{event}", "reference_id": "{reference_id}", "status": "{payment_status}", "amount": {"value": {amount}, "offset": {offset}}, "transaction_id": "{transaction_id}", "transaction_status": "{transaction_status}"}"#,
                    "message": r#"{"event": "{event}", "from": "{from}", "text": "{text}"}"#,
                    "sms": r#"{"event": "{event}", "id": "{message_id}", "status": "{status}", "trace": "{trace}", "units": {units}, "ref": "{ref_custom}"}"#,
                },
            }],
            "configurations": [{"configuration_name": "shop pay", "provider_name": "razorpay", "gateway_account": "rzp_test_shop"}],
            "templates": [{"name": "receipt", "language": "en", "kind": "body", "variables": 2, "url_button": true}],
            "dlt": {"senders": ["ACMEST"], "templates": [{"id": "1107", "text": "Pay Rs.{#var#} at {#var#} -Acme"}]},
        });
        self.register_one("kaleyra", account, changes).await;
    }

    /// Registers the Zaakpay account.
    pub(crate) async fn zaakpay_account(&self, changes: Value) {
        let account = json!({
            "merchant_identifier": "fb2016ffd3a64b2994a6289dc2b671a4", "secret_key": "0678056d96914a8583fb518caf42828a",
            "webhook_url": format!("{}/zaakpay", self.receiver.url),
        });
        self.register_one("zaakpay", account, changes).await;
    }

    pub(crate) async fn exotel(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        self.json(
            method,
            &format!("/exotel{path}"),
            &[("authorization", EXOTEL_KEY)],
            body,
        )
        .await
    }

    /// Sends WhatsApp messages through Exotel.
    pub(crate) async fn exotel_send(&self, messages: Value) -> (u16, Value) {
        let body = json!({"whatsapp": {"messages": messages}});
        self.exotel("POST", "/v2/accounts/acme1/messages", Some(body))
            .await
    }

    /// Posts a form, urlencoded.
    pub(crate) async fn post_form(
        &self,
        path: &str,
        header: (&str, &str),
        fields: &[(&str, &str)],
    ) -> (u16, String) {
        let encode =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let headers = [
            header,
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.post(path, &headers, body.join("&")).await
    }

    /// Posts a form, multipart as curl writes it.
    pub(crate) async fn post_multipart(
        &self,
        path: &str,
        header: (&str, &str),
        fields: &[(&str, &str)],
    ) -> (u16, String) {
        let parts: String = fields
            .iter()
            .map(|(name, value)| {
                format!(
                    "--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
            })
            .collect();
        let headers = [header, ("content-type", "multipart/form-data; boundary=xx")];
        self.post(path, &headers, format!("{parts}--xx--\r\n"))
            .await
    }

    /// Posts with exactly these headers.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> (u16, String) {
        let url = format!("{}{path}", self.sandbox.url());
        let mut request = self.client.post(url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Sends an SMS through Exotel.
    pub(crate) async fn exotel_sms(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        let header = ("authorization", EXOTEL_KEY);
        let (http, text) = self
            .post_form("/exotel/v1/Accounts/acme1/Sms/send.json", header, fields)
            .await;
        (http, serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn kaleyra_send(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        let (http, text) = self
            .post_multipart("/kaleyra/v1/HXIN1/messages", ("api-key", "key"), fields)
            .await;
        (http, serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn kaleyra(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        self.json(
            method,
            &format!("/kaleyra/v1/HXIN1{path}"),
            &[("api-key", "key")],
            body,
        )
        .await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<(u16, String), reqwest::Error> {
        let url = format!("{}{path}", self.sandbox.url());
        let mut request = self.client.request(method.parse().unwrap(), url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    async fn json(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (u16, Value) {
        let (status, text) = self
            .raw(method, path, headers, body.map(|body| body.to_string()))
            .await
            .unwrap();
        (status, serde_json::from_str(&text).unwrap())
    }

    /// A control call that must succeed.
    pub(crate) async fn control(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self
            .json("POST", &format!("/_control/{path}"), &[], Some(body))
            .await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// A control call that must not.
    pub(crate) async fn control_refused(&self, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self
            .json("POST", &format!("/_control/{path}"), &[], Some(body))
            .await;
        assert_ne!(status, 200, "{path}: {answer}");
        (status, answer["error"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn look(&self, path: &str) -> Value {
        self.json("GET", &format!("/_control/{path}"), &[], None)
            .await
            .1
    }

    /// Waits until every webhook has arrived or been given up.
    pub(crate) async fn settle(&self) {
        let done = self.control("webhooks/wait", json!({})).await;
        assert_eq!(done["idle"], true);
    }

    pub(crate) async fn razorpay(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        self.razorpay_with(method, path, &[], body).await
    }

    pub(crate) async fn razorpay_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (u16, Value) {
        let key = base64::engine::general_purpose::STANDARD.encode("rzp_test_shop:key_secret_demo");
        let authorization = format!("Basic {key}");
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend(headers);
        self.json(method, &format!("/razorpay{path}"), &all, body)
            .await
    }

    /// A fresh payment link.
    pub(crate) async fn link(&self, reference: &str) -> Value {
        let (status, link) = self
            .razorpay(
                "POST",
                "/v1/payment_links",
                Some(json!({"amount": 50000, "currency": "INR", "reference_id": reference})),
            )
            .await;
        assert_eq!(status, 200, "{link}");
        link
    }

    pub(crate) async fn meta(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.json(
            method,
            &format!("/meta{path}"),
            &[("authorization", "Bearer token")],
            body,
        )
        .await
    }

    pub(crate) async fn send(&self, message: &Value) -> (u16, Value) {
        self.meta("POST", "/106540352242922/messages", Some(message.clone()))
            .await
    }

    pub(crate) async fn open_window(&self) {
        self.control("customer/message", json!({"phone": "+919876543210"}))
            .await;
    }

    pub(crate) async fn now(&self) -> i64 {
        self.look("clock").await["now"].as_i64().unwrap()
    }
}

/// `key:token`.
pub(crate) const EXOTEL_KEY: &str = "Basic a2V5OnRva2Vu";

/// The shape of a JSON document: its keys and types, arrays by their first entry.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::String(_) => "string".into(),
        Value::Number(number) if number.is_f64() => "decimal".into(),
        Value::Number(_) => "integer".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Null => Value::Null,
    }
}

/// A sample of the vendor's documents.
pub(crate) fn sample(name: &str) -> Value {
    let path = format!("{}/tests/samples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The parameters of a right order.
pub(crate) fn order(reference: &str, payment: Value) -> Value {
    json!({
        "reference_id": reference,
        "type": "physical-goods",
        "payment_settings": [payment],
        "currency": "INR",
        "total_amount": {"value": 85000, "offset": 100},
        "order": {
            "status": "pending",
            "items": [{
                "retailer_id": "SKU001", "name": "Basmati 5 kg", "quantity": 2,
                "amount": {"value": 45000, "offset": 100}, "sale_amount": {"value": 42000, "offset": 100},
            }],
            "subtotal": {"value": 84000, "offset": 100},
            "tax": {"value": 1000, "offset": 100, "description": "GST"},
        },
    })
}

pub(crate) fn gateway() -> Value {
    json!({"type": "payment_gateway", "payment_gateway": {
        "type": "razorpay", "configuration_name": "shop pay",
        "razorpay": {"receipt": "receipt-value", "notes": {"key1": "value1"}},
    }})
}

pub(crate) fn interactive(parameters: Value) -> Value {
    json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": "+919876543210", "type": "interactive",
        "biz_opaque_callback_data": "task-1",
        "interactive": {
            "type": "order_details",
            "body": {"text": "Your bill"},
            "footer": {"text": "Thank you"},
            "action": {"name": "review_and_pay", "parameters": parameters},
        },
    })
}

pub(crate) fn status(reference: &str, status: &str) -> Value {
    json!({
        "messaging_product": "whatsapp", "to": "+919876543210", "type": "interactive",
        "interactive": {
            "type": "order_status",
            "body": {"text": "News"},
            "action": {"name": "review_order", "parameters": {"reference_id": reference, "order": {"status": status}}},
        },
    })
}

pub(crate) fn template(name: &str, language: &str, components: Value) -> Value {
    json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": "919876543210", "type": "template",
        "template": {"name": name, "language": {"policy": "deterministic", "code": language}, "components": components},
    })
}
