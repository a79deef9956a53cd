//! The ways a shop's messages can go: a provider and a channel. What a test says of one should hold for all.

use std::ops::Deref;
use std::thread;

use serde_json::{Value, json};

use super::http::{self, Reply};
use super::shop::{Plan, Shop, eventually, random, secret, stack};

/// A provider and the channel that a shop uses there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Meta,
    ExotelWhatsApp,
    ExotelSms,
    KaleyraWhatsApp,
    KaleyraSms,
}

pub(crate) const ALL: [Way; 5] = [
    Way::Meta,
    Way::ExotelWhatsApp,
    Way::ExotelSms,
    Way::KaleyraWhatsApp,
    Way::KaleyraSms,
];
pub(crate) const WHATSAPP: [Way; 3] = [Way::Meta, Way::ExotelWhatsApp, Way::KaleyraWhatsApp];
pub(crate) const SMS: [Way; 2] = [Way::ExotelSms, Way::KaleyraSms];
/// Providers that can turn to SMS when WhatsApp fails.
pub(crate) const BOTH: [Way; 2] = [Way::ExotelWhatsApp, Way::KaleyraWhatsApp];

/// Tests several ways at once, so that they wait together.
pub(crate) fn each<T: std::fmt::Debug + Copy + Sync>(ways: &[T], test: impl Fn(T) + Sync) {
    let test = &test;
    let failed: Vec<T> = thread::scope(|scope| {
        let running: Vec<_> = ways
            .iter()
            .map(|way| {
                let named = thread::Builder::new().name(format!("{way:?}"));
                (*way, named.spawn_scoped(scope, || test(*way)).unwrap())
            })
            .collect();
        running
            .into_iter()
            .filter_map(|(way, run)| run.join().is_err().then_some(way))
            .collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// The entity and the texts a shop has registered with the operators: those of `docs/providers.md`.
const ENTITY: &str = "1101500000000012345";
const REGISTERED: [(&str, &str, &str); 4] = [
    (
        "invoice",
        "1107160000000000001",
        "Dear {#var#}, your bill {#var#} from {#var#} is Rs.{#var#}. View and pay: {#var#}{#var#}{#var#}",
    ),
    (
        "paid",
        "1107160000000000002",
        "{#var#} received your payment of Rs.{#var#} for bill {#var#}. Receipt: {#var#}{#var#}{#var#}",
    ),
    (
        "failed",
        "1107160000000000003",
        "Your payment of Rs.{#var#} for bill {#var#} at {#var#} did not go through. Try again: {#var#}{#var#}{#var#}",
    ),
    (
        "canceled",
        "1107160000000000004",
        "Your bill {#var#} at {#var#} was canceled. Details: {#var#}{#var#}{#var#}",
    ),
];

/// What Kaleyra's dashboard is set up with: `docs/kaleyra-callback.md`, in the sandbox's names of the variables.
const STATUS_BODY: &str = r#"{"event": "message", "message_id": "{message_id}", "status": "{status}", "code": "{error_code}", "detail": "{error}"}"#;
const SMS_BODY: &str = r#"{"event": "message", "message_id": "{message_id}", "tag": "{ref}", "status": "{status}", "code": "{trace}", "detail": "{error}"}"#;
const PAYMENT_BODY: &str = r#"{"event": "payment", "reference_id": "{reference_id}", "status": "{payment_status}", "transaction_id": "{transaction_id}"}"#;
const INBOUND_BODY: &str = r#"{"event": "inbound", "from": "{from}", "type": "{type}", "body": "{body}", "created_at": "{created_at}"}"#;

impl Way {
    pub(crate) fn vendor(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::ExotelWhatsApp | Self::ExotelSms => "exotel",
            Self::KaleyraWhatsApp | Self::KaleyraSms => "kaleyra",
        }
    }

    pub(crate) fn is_sms(self) -> bool {
        SMS.contains(&self)
    }

    /// The provider's SMS.
    pub(crate) fn sms(self) -> Self {
        match self.vendor() {
            "exotel" => Self::ExotelSms,
            "kaleyra" => Self::KaleyraSms,
            vendor => panic!("{vendor} sends no SMS"),
        }
    }

    /// The sandbox's name of the call that sends.
    fn operation(self) -> &'static str {
        if self.is_sms() {
            "send_sms"
        } else {
            "send_message"
        }
    }

    /// What the customer's phone shows of a bill and of the news that it is paid.
    pub(crate) fn chain(self) -> [&'static str; 2] {
        match self {
            Self::Meta => ["template_order_details", "template_order_status"],
            Self::ExotelWhatsApp => ["order_details", "order_status"],
            // Kaleyra documents orders for payments inside WhatsApp only.
            Self::KaleyraWhatsApp => ["text", "text"],
            Self::ExotelSms | Self::KaleyraSms => ["sms", "sms"],
        }
    }

    /// A shop whose customer has no open window.
    pub(crate) fn open(self, change: impl FnOnce(&mut Plan)) -> Outlet {
        let mut account = random(10);
        let shop = Shop::with(|plan| {
            self.move_in(plan, &mut account);
            change(plan);
        });
        Outlet {
            shop,
            way: self,
            account,
        }
    }

    /// A shop that can reach its customer: without order templates the customer has to have written first.
    pub(crate) fn open_to_customers(self, change: impl FnOnce(&mut Plan)) -> Outlet {
        let outlet = self.open(change);
        if BOTH.contains(&self) {
            outlet.says("Hello");
        }
        outlet
    }

    /// Moves a shop to this provider. It gets a number and a header of its own, because what a provider says about its rate is
    /// about the number.
    fn move_in(self, plan: &mut Plan, account: &mut String) {
        let number = u32::from_str_radix(&random(8), 16).unwrap() % 100_000_000;
        let number = format!("+9180{number:08}");
        let header = format!("C{}", random(5).to_uppercase());
        let from = if self.is_sms() { &header } else { &number };
        let ids: Value = REGISTERED
            .iter()
            .map(|(kind, id, _)| ((*kind).to_owned(), json!(id)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let callback_token = secret(24);
        let hook = plan.accounts["razorpay"]["webhook_url"]
            .as_str()
            .unwrap()
            .replace("razorpay", self.vendor());
        let credentials = match self.vendor() {
            "meta" => {
                plan.document["channel"]["from"] = json!(from);
                *account = text(&plan.accounts["meta"]["phone_number_id"]);
                return;
            }
            "exotel" => {
                let (key, token) = (secret(20), secret(20));
                plan.accounts["exotel"] = json!({
                    "account_sid": account, "api_key": key, "api_token": token, "from": number,
                    "webhook_url": format!("{hook}?token={callback_token}"),
                    "sms": {"dlt": registered(&header), "linked_senders": [header]},
                    "configurations": configurations(plan),
                });
                json!({
                    "account_sid": account, "api_key": key, "api_token": token, "callback_token": callback_token,
                    "sender": header, "dlt_entity_id": ENTITY, "dlt_template_ids": ids,
                })
            }
            _ => {
                let key = secret(32);
                plan.accounts["kaleyra"] = json!({
                    "sid": account, "api_key": key, "from": number, "dlt": registered(&header),
                    "callback_profiles": [{
                        "id": "IN_1", "url": hook, "headers": {"x-chatbill-token": callback_token},
                        "body": {"message": INBOUND_BODY, "payment": PAYMENT_BODY},
                    }],
                    "callback_url_body": {"status": STATUS_BODY, "sms": SMS_BODY},
                    "payment_number": "business", "configurations": configurations(plan),
                });
                json!({
                    "sid": account, "api_key": key, "callback_token": callback_token,
                    "sender": header, "dlt_template_ids": ids,
                })
            }
        };
        plan.accounts.as_object_mut().unwrap().remove("meta");
        plan.document["channel"] = json!({
            "kind": if self.is_sms() { "sms" } else { "whatsapp" },
            "provider": self.vendor(), "from": from, "credentials": credentials,
            "base_url": format!("{}/{}", stack().sandbox_url, self.vendor()),
        });
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// What the operators know of the shop. Links lead to this machine and have to fit the texts as they would in production.
fn registered(header: &str) -> Value {
    let (_, rest) = stack().api_url.split_once("://").unwrap();
    let host = rest.split([':', '/']).next().unwrap();
    let templates: Vec<Value> = REGISTERED
        .iter()
        .map(|(_, id, text)| json!({"id": id, "text": text}))
        .collect();
    json!({"entity_id": ENTITY, "senders": [header], "url_hosts": [host], "templates": templates})
}

/// The payment configuration behind `pay`, which leads to the shop's own account at the gateway.
fn configurations(plan: &Plan) -> Value {
    let account = &plan.accounts["razorpay"]["key_id"];
    json!([{"configuration_name": "pay", "provider_name": "razorpay", "gateway_account": account}])
}

/// A shop that sends one way.
#[derive(Debug)]
pub(crate) struct Outlet {
    shop: Shop,
    pub(crate) way: Way,
    /// Its account at the provider.
    account: String,
}

impl Deref for Outlet {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

impl Outlet {
    /// The customer at the till writes to the shop.
    pub(crate) fn says(&self, text: &str) {
        self.hears(&self.phone, text);
    }

    /// Somebody writes to the shop; returns when it knows.
    pub(crate) fn hears(&self, phone: &str, text: &str) {
        let said = json!({"vendor": self.way.vendor(), "account": self.account, "phone": phone, "text": text});
        let before = self.heard();
        self.control("customer/message", &said);
        let known = eventually(|| (self.heard() > before).then_some(()));
        assert!(known.is_some(), "the shop does not hear its customers");
    }

    fn heard(&self) -> usize {
        let hooks = self.reports("message");
        hooks
            .iter()
            .filter(|hook| hook["state"] == "delivered")
            .count()
    }

    /// The provider's webhooks of one kind, of the shop's own account.
    pub(crate) fn reports(&self, event: &str) -> Vec<Value> {
        let path = format!("webhooks?vendor={}&event={event}", self.way.vendor());
        let hooks = self.seen(&path);
        let hooks = hooks["webhooks"].as_array().unwrap().iter();
        hooks
            .filter(|hook| hook["account"] == *self.account)
            .cloned()
            .collect()
    }

    /// Plans a fault of what is sent to the shop's customer.
    pub(crate) fn trouble(&self, fault: Value) {
        self.trouble_with(self.way, fault);
    }

    /// The same for another channel of the provider.
    pub(crate) fn trouble_with(&self, way: Way, mut fault: Value) {
        // A text and an SMS name no bill, so the fault is about the customer, as the call writes the number.
        let customer = match way {
            Way::Meta | Way::KaleyraWhatsApp => self.phone.clone(),
            Way::ExotelWhatsApp | Way::ExotelSms | Way::KaleyraSms => format!("+{}", self.phone),
        };
        fault["vendor"] = json!(way.vendor());
        fault["operation"] = json!(way.operation());
        self.fault(&customer, fault);
    }

    /// The calls by which the provider was asked to send something to the customer.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked_for(self.way)
    }

    /// The same by another channel of the provider.
    pub(crate) fn asked_for(&self, way: Way) -> Vec<Value> {
        let (vendor, operation) = (way.vendor(), way.operation());
        let calls = self.seen(&format!("received?vendor={vendor}&operation={operation}"));
        let calls = calls["received"].as_array().unwrap().iter();
        calls
            .filter(|call| call["body"].to_string().contains(&self.phone))
            .cloned()
            .collect()
    }

    /// What the customer's phone shows, in its sequence.
    pub(crate) fn messages(&self) -> Vec<Value> {
        let inbox = self.seen(&format!("customer/inbox?phone={}", self.phone));
        inbox["messages"].as_array().unwrap().clone()
    }

    /// The link to the receipt page in the latest message.
    #[track_caller]
    pub(crate) fn link(&self) -> String {
        let messages = self.messages();
        let latest = messages.last().expect("a message");
        find_link(latest).unwrap_or_else(|| panic!("no link to the receipt: {latest:#}"))
    }

    /// Opens the page behind the latest message's link.
    #[track_caller]
    pub(crate) fn page(&self) -> Reply {
        let page = http::get(&self.link(), &[("accept", "text/html")]);
        assert_eq!(page.status, 200, "{}", page.text());
        page
    }

    /// Posts a new bill and reads its order until it is as wanted.
    #[track_caller]
    pub(crate) fn sell_until(&self, what: &str, done: impl Fn(&Value) -> bool) -> (String, Value) {
        let (reference, _) = self.sell();
        let order = self.until(&reference, what, done);
        (reference, order)
    }
}

/// The first link to a receipt page that stands in some text of a message.
fn find_link(message: &Value) -> Option<String> {
    match message {
        Value::String(text) => text
            .split_whitespace()
            .find(|word| word.starts_with("http") && word.contains("/r/"))
            .map(str::to_owned),
        Value::Array(items) => items.iter().find_map(find_link),
        Value::Object(fields) => fields.values().find_map(find_link),
        _ => None,
    }
}

/// The short code a link ends in; SMS have no room for more.
#[track_caller]
pub(crate) fn assert_short(link: &str) {
    let (_, code) = link.rsplit_once("/r/").unwrap();
    assert_eq!(code.len(), 13, "{link}");
    assert!(link.len() <= 90, "three slots of an SMS: {link}");
}
