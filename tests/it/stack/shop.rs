//! A shop: a tenant of the stack with its accounts at the vendors, its POS, and what a test asks and tells them.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::aws::{Aws, now_ms};
use super::http::{self, Reply};

/// How long something may take that the system does by itself: a cold start, a backoff's first step, a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(200);

/// The stack under test.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) aws: Aws,
    pub(crate) api_url: String,
    pub(crate) sandbox_url: String,
    pub(crate) stage: String,
    pub(crate) queue_url: String,
    pub(crate) dlq_url: String,
    table: String,
    usage_plan: String,
    tenants_path: String,
    reconcile: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says where the stack is"
)]
fn description() -> Value {
    let path = std::env::var("CHATBILL_STACK")
        .expect("CHATBILL_STACK must name a stack.json; `cargo xtask up` writes one");
    // Cargo runs tests in the folder of their package; people name files from where they are.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(&path)
        .or_else(|_| fs::read_to_string(root.join(&path)))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

static STACK: LazyLock<Stack> = LazyLock::new(|| {
    let file = description();
    let text = |name: &str| {
        file[name]
            .as_str()
            .unwrap_or_else(|| panic!("stack.json has no {name}"))
            .to_owned()
    };
    Stack {
        aws: Aws {
            endpoint: text("aws_endpoint"),
            region: text("region"),
            access_key_id: text("aws_access_key_id"),
            secret_access_key: text("aws_secret_access_key"),
        },
        api_url: text("api_url"),
        sandbox_url: text("sandbox_url"),
        stage: text("stage"),
        queue_url: text("queue_url"),
        dlq_url: text("dlq_url"),
        table: text("table"),
        usage_plan: text("usage_plan_id"),
        tenants_path: text("tenants_path"),
        reconcile: text("reconcile_function"),
    }
});

pub(crate) fn stack() -> &'static Stack {
    &STACK
}

impl Stack {
    /// The usage plan that lets keys pass the gateway.
    pub(crate) fn usage_plan(&self) -> &str {
        &self.usage_plan
    }

    /// Runs `reconcile` now, as its schedule would. Only one run goes on at a time, so it may have to wait for another test's, or for
    /// the schedule's.
    pub(crate) fn reconcile(&self) -> Value {
        eventually(|| {
            let answer = self.aws.invoke(&self.reconcile, &json!({}));
            (answer["skipped"] != true).then_some(answer)
        })
        .expect("another run goes on and on")
    }
}

/// Shops that are open now, in all tests together.
pub(crate) static OPEN: AtomicUsize = AtomicUsize::new(0);

/// What must stand in no log: keys, secrets, phone numbers.
pub(crate) static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Letters and digits that nobody has used before.
pub(crate) fn random(length: usize) -> String {
    let mut bytes = vec![0_u8; length.div_ceil(2)];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    hex::encode(bytes)[..length].to_owned()
}

/// What must stand in no log.
pub(crate) fn secret(length: usize) -> String {
    let secret = random(length);
    SECRETS.lock().unwrap().push(secret.clone());
    secret
}

/// Adds every secret in a tenant's document or in its accounts to those, whoever made it up.
fn hide(value: &Value, named_so: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let named_so = ["secret", "token", "salt", "key"]
                    .iter()
                    .any(|part| name.contains(part));
                hide(
                    value,
                    named_so && !name.ends_with("_id") && name != "api_keys",
                );
            }
        }
        Value::Array(values) => values.iter().for_each(|value| hide(value, named_so)),
        // Anything shorter may stand in a log by chance.
        Value::String(text) if named_so && text.len() >= 16 => {
            SECRETS.lock().unwrap().push(text.clone())
        }
        _ => {}
    }
}

/// A phone number that is no other test's.
pub(crate) fn phone() -> String {
    let number = u32::from_str_radix(&random(8), 16).unwrap() % 100_000_000;
    let national = format!("98{number:08}");
    SECRETS.lock().unwrap().push(national.clone());
    format!("91{national}")
}

/// What a shop is opened with; a test changes what it is about.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The tenant document.
    pub(crate) document: Value,
    /// Its accounts, as the sandbox takes them.
    pub(crate) accounts: Value,
}

impl Plan {
    /// Checkout inside WhatsApp instead of a payment link.
    pub(crate) fn native(&mut self) {
        self.document["payment"]["mode"] = json!("payment_gateway");
        self.document["payment"]["configuration_name"] = json!("pay");
    }

    /// Interactive messages first; templates only when the window is closed.
    pub(crate) fn interactive(&mut self) {
        self.document["channel"]["form"] = json!("interactive");
    }
}

#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) id: String,
    pub(crate) key: String,
    /// The phone of the customer at the till.
    pub(crate) phone: String,
    pub(crate) webhook_secret: String,
    pub(crate) app_secret: String,
    pub(crate) verify_token: String,
    pub(crate) key_id: String,
    vendors: String,
}

impl Drop for Shop {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shop {
    /// A shop that is paid by link and sends templates.
    pub(crate) fn open() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Plan)) -> Self {
        Self::at(&stack().sandbox_url, change)
    }

    /// A shop whose vendors are another sandbox than the stack's: one whose clock can be moved without moving everybody's.
    pub(crate) fn at(vendors: &str, change: impl FnOnce(&mut Plan)) -> Self {
        OPEN.fetch_add(1, Ordering::SeqCst);
        let id = format!("shop-{}", random(12));
        let shop = Self {
            key: format!("cb_{id}_{}", secret(32)),
            phone: phone(),
            webhook_secret: secret(24),
            app_secret: secret(24),
            verify_token: secret(24),
            key_id: format!("rzp_test_{}", random(14)),
            vendors: vendors.to_owned(),
            id,
        };
        let mut plan = shop.plan();
        change(&mut plan);
        hide(&plan.document, false);
        hide(&plan.accounts, false);
        shop.control("accounts", &plan.accounts);
        let name = format!("{}/{}", stack().tenants_path, shop.id);
        stack().aws.put_tenant(&name, &plan.document);
        stack()
            .aws
            .add_api_key(&stack().usage_plan, &shop.id, &shop.key);
        shop
    }

    fn plan(&self) -> Plan {
        let id = &self.id;
        let hook = |source: &str| format!("{}/webhooks/{source}/{id}", stack().api_url);
        let access_token = format!("EAA{}", secret(24));
        let key_secret = secret(24);
        let phone_number_id = format!("20{}", self.phone);
        let template = |name: &str, kind: &str| json!({"name": name, "language": "en", "kind": kind, "variables": 2});
        Plan {
            document: json!({
                "tenant_id": id, "display_name": "Test Stores",
                "api_keys": [{
                    "id": "pos-1", "sha256": hex::encode(Sha256::digest(&self.key)), "scopes": ["invoices", "refunds", "reports"],
                }],
                "receipt_secrets": [secret(24)],
                "channel": {
                    "kind": "whatsapp", "provider": "meta", "from": "+918045210677",
                    "base_url": format!("{}/meta", self.vendors),
                    "credentials": {
                        "phone_number_id": phone_number_id, "waba_id": format!("10{}", self.phone),
                        "access_token": access_token, "app_secrets": [self.app_secret], "verify_token": self.verify_token,
                    },
                    "templates": {
                        "invoice": {"name": "bill", "language": "en", "parameters": ["customer_name", "amount"]},
                        "status": {"name": "order_update", "language": "en", "parameters": ["reference_id", "receipt_url"]},
                    },
                },
                "payment": {
                    "mode": "payment_link", "gateway": "razorpay", "base_url": format!("{}/razorpay", self.vendors),
                    "credentials": {
                        "key_id": self.key_id, "key_secret": key_secret, "webhook_secrets": [self.webhook_secret],
                    },
                },
                "on_captured": "completed", "late_payment": "hold",
            }),
            accounts: json!({
                "razorpay": {
                    "key_id": self.key_id, "key_secret": key_secret, "webhook_secret": self.webhook_secret,
                    "webhook_url": hook("razorpay"),
                },
                "meta": {
                    "phone_number_id": phone_number_id, "waba_id": format!("10{}", self.phone),
                    "access_token": access_token, "app_secret": self.app_secret, "verify_token": self.verify_token,
                    "webhook_url": hook("meta"),
                    "configurations": [{"configuration_name": "pay", "provider_name": "razorpay"}],
                    "templates": [template("bill", "order_details"), template("order_update", "order_status")],
                },
            }),
        }
    }

    // ---- The POS -------------------------------------------------------------------------------------------------

    /// A bill over 850 rupees with a reference of its own.
    pub(crate) fn bill(&self) -> Value {
        json!({
            // With letters in between: ten digits in a row would look like a phone number in a log.
            "reference_id": format!("T-{}X{}", random(5), random(5)).to_uppercase(),
            "customer": {"phone": format!("+{}", self.phone), "name": "Pallavi"},
            "goods": "physical-goods",
            "items": [{
                "retailer_id": "RICE-5", "name": "Basmati 5 kg", "quantity": 2,
                "amount": {"value": 45_000, "offset": 100}, "sale_amount": {"value": 42_000, "offset": 100},
            }],
            "tax": {"value": 1_000, "offset": 100, "description": "GST"},
            "total_amount": {"value": 85_000, "offset": 100}, "currency": "INR", "expires_in": 1800,
        })
    }

    /// Posts to or reads from a path of the API, with this shop's key.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let url = format!("{}{path}", stack().api_url);
        let headers = [
            ("x-api-key", self.key.as_str()),
            ("content-type", "application/json"),
        ];
        let body = body.map(Value::to_string);
        http::send(method, &url, &headers, body.as_ref().map(String::as_bytes))
    }

    pub(crate) fn post(&self, bill: &Value) -> Reply {
        let reply = self.call("POST", "/invoices", Some(bill));
        let answer: Value = serde_json::from_slice(&reply.bytes).unwrap_or_default();
        // Whoever has a receipt's token sees the receipt.
        if let Some((_, token)) = answer["receipt_url"]
            .as_str()
            .and_then(|url| url.rsplit_once('/'))
        {
            SECRETS.lock().unwrap().push(token.to_owned());
        }
        reply
    }

    /// Posts a new bill; gives its reference and the answer.
    pub(crate) fn sell(&self) -> (String, Value) {
        let answer = self.post(&self.bill()).json(201);
        (answer["reference_id"].as_str().unwrap().to_owned(), answer)
    }

    /// Posts a new bill and waits until the customer's phone has it.
    pub(crate) fn sell_and_deliver(&self) -> String {
        let (reference, _) = self.sell();
        self.until(&reference, "the bill to be delivered", |order| {
            order["delivery"]["status"] == "delivered"
        });
        reference
    }

    pub(crate) fn order(&self, reference: &str) -> Value {
        self.call("GET", &format!("/invoices/{reference}"), None)
            .json(200)
    }

    pub(crate) fn set_status(&self, reference: &str, status: &str) -> Reply {
        let path = format!("/invoices/{reference}/status");
        self.call("POST", &path, Some(&json!({"status": status})))
    }

    /// Reads the order until it is as wanted.
    #[track_caller]
    pub(crate) fn until(
        &self,
        reference: &str,
        what: &str,
        done: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let found = eventually(|| {
            last = self.order(reference);
            done(&last).then_some(())
        });
        assert!(found.is_some(), "waited in vain for {what}: {last:#}");
        last
    }

    /// Waits until the order is paid and the customer knows.
    #[track_caller]
    pub(crate) fn until_confirmed(&self, reference: &str) -> Value {
        self.until(reference, "the payment to be confirmed", |order| {
            order["payment_status"] == "captured" && message(order, "paid")["status"] == "delivered"
        })
    }

    // ---- The vendors ---------------------------------------------------------------------------------------------

    /// Tells the sandbox something.
    #[track_caller]
    pub(crate) fn control(&self, path: &str, body: &Value) -> Value {
        http::post(&format!("{}/_control/{path}", self.vendors), &[], body).json(200)
    }

    /// Asks the sandbox something.
    pub(crate) fn seen(&self, path: &str) -> Value {
        http::get(&format!("{}/_control/{path}", self.vendors), &[]).json(200)
    }

    /// Plans a fault of this order's calls or webhooks.
    pub(crate) fn fault(&self, reference: &str, fault: Value) {
        let mut fault = fault;
        fault["reference_id"] = json!(reference);
        self.control("faults", &fault);
    }

    /// The calls a vendor received about an order.
    pub(crate) fn received(&self, operation: &str, reference: &str) -> Vec<Value> {
        let path = format!("received?operation={operation}&reference_id={reference}");
        self.seen(&path)["received"].as_array().unwrap().clone()
    }

    /// The gateway's webhooks about an order.
    pub(crate) fn hooks(&self, event: &str, reference: &str) -> Vec<Value> {
        let path = format!("webhooks?vendor=razorpay&event={event}&reference_id={reference}");
        self.seen(&path)["webhooks"].as_array().unwrap().clone()
    }

    /// The customer pays the order's link.
    pub(crate) fn pay(&self, reference: &str) -> Value {
        self.customer("pay", reference, json!({}))
    }

    /// The customer does something at the gateway's page, with more words about how.
    #[track_caller]
    pub(crate) fn customer(&self, act: &str, reference: &str, how: Value) -> Value {
        let mut request = json!({
            "vendor": "razorpay", "account": self.key_id, "reference_id": reference, "method": "upi",
        });
        let fields = request.as_object_mut().unwrap();
        fields.extend(how.as_object().unwrap().clone());
        self.control(&format!("customer/{act}"), &request)
    }

    /// Waits for the gateway's next second. Gateways tell the second in which they took the money, and what came in the
    /// second of an order's end may have come before it.
    pub(crate) fn until_next_second(&self) {
        let now = || self.seen("clock")["now"].as_i64().unwrap();
        let start = now();
        eventually(|| (now() > start).then_some(()));
    }

    /// The kinds of messages a phone got, in their sequence.
    pub(crate) fn inbox(&self, phone: &str) -> Vec<String> {
        let inbox = self.seen(&format!("customer/inbox?phone={phone}"));
        let messages = inbox["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["kind"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Delivers a webhook body to the stack by hand.
    pub(crate) fn hook(&self, source: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let url = format!("{}/webhooks/{source}/{}", stack().api_url, self.id);
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        http::send("POST", &url, &all, Some(body))
    }

    // ---- The table -----------------------------------------------------------------------------------------------

    fn item_key(&self, reference: &str) -> Value {
        json!({"reference_id": {"S": reference}, "record": {"S": format!("{}#order", self.id)}})
    }

    /// Makes an order older: moves every time in its item back and makes it due. Nobody's clock is changed, so the
    /// functions see what they would see that much later.
    pub(crate) fn age(&self, reference: &str, minutes: i64) {
        let aws = &stack().aws;
        let key = self.item_key(reference);
        let read = json!({"TableName": stack().table, "Key": key, "ConsistentRead": true});
        let item = aws.dynamodb("GetItem", &read)["Item"].clone();
        let back = |time: &mut Value| {
            // Some events have an amount or a count under the same short name.
            if let Some(at) = time.as_i64().filter(|at| *at > 1_000_000_000_000) {
                *time = json!(at - minutes * 60_000);
            }
        };
        let mut bill: Value = serde_json::from_str(item["bill"]["S"].as_str().unwrap()).unwrap();
        back(&mut bill["c"]);
        back(&mut bill["x"]);
        let events: Vec<Value> = item["events"]["L"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                let mut event: Value = serde_json::from_str(event["S"].as_str().unwrap()).unwrap();
                back(&mut event[0]);
                // The letters mean something else in other events: an amount, an error.
                let time = match event[2]["e"].as_str() {
                    Some("started") => "x",
                    Some("send_failed") => "a",
                    _ => return json!({"S": event.to_string()}),
                };
                if let Some(time) = event[2].get_mut(time) {
                    back(time);
                }
                json!({"S": event.to_string()})
            })
            .collect();
        let count = events.len();
        let shard = item.get("due_shard").cloned();
        let write = json!({
            "TableName": stack().table, "Key": key,
            "UpdateExpression": "SET bill = :bill, events = :events, due_shard = :shard, due_at = :due",
            // Somebody who wrote meanwhile would be overwritten.
            "ConditionExpression": "size(events) = :count",
            "ExpressionAttributeValues": {
                ":bill": {"S": bill.to_string()}, ":events": {"L": events}, ":count": {"N": count.to_string()},
                ":shard": shard.expect("an order with something outstanding"),
                ":due": {"N": (now_ms() - 1000).to_string()},
            },
        });
        aws.dynamodb("UpdateItem", &write);
    }
}

/// Asks again and again until there is an answer, or until patience ends.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() > PATIENCE {
            return None;
        }
        thread::sleep(PACE);
    }
}

/// A message of an order by its name; null if the order does not owe it.
pub(crate) fn message<'a>(order: &'a Value, name: &str) -> &'a Value {
    let messages = order["messages"].as_array().unwrap();
    messages
        .iter()
        .find(|message| message["message"] == name)
        .unwrap_or(&Value::Null)
}

/// How often an event stands in an order's timeline, counting those for which `which` holds.
pub(crate) fn count(order: &Value, event: &str, which: impl Fn(&Value) -> bool) -> usize {
    let timeline = order["timeline"].as_array().unwrap();
    timeline
        .iter()
        .filter(|entry| entry["event"] == event && which(entry))
        .count()
}

/// The reasons for which an order is held.
pub(crate) fn held(order: &Value) -> Vec<&str> {
    let holds = order.get("held").and_then(Value::as_array);
    holds
        .into_iter()
        .flatten()
        .map(|hold| hold["reason"].as_str().unwrap())
        .collect()
}
