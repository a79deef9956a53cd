//! Every payment gateway in every mode it has, through the deployed functions: one table, and what must hold for each row.
//!
//! Each row of each test has a sandbox of its own, so that faults, clocks and webhooks are nobody else's. A new gateway adds its
//! rows to [`WAYS`]; [`every_gateway_has_a_row_for_each_of_its_modes`] fails until it has.

mod browser;
mod ending;
mod news;
mod outages;
mod refunds;

use std::thread;

use chatbill_domain::tenant::Tenant;
use chatbill_testkit::builders::tenant_json;
use sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::http::{self, Reply};
use super::shop::{Plan, Shop, eventually, held, message, random, secret};

/// How the customer comes to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    /// A link of the gateway's.
    Link,
    /// Our page, which posts a form to the gateway; the field names what the gateway knows the order by.
    Page(&'static str),
    /// A `upi://` link in the message.
    Intent,
    /// Pay inside WhatsApp.
    Tap,
}

/// One gateway in one mode.
#[derive(Debug)]
struct Way {
    gateway: &'static str,
    mode: &'static str,
    account: fn() -> Account,
    entrance: Entrance,
    /// The call that makes the payment; none where there is nothing to make.
    makes: Option<&'static str>,
    /// The webhook that tells of a payment.
    news: &'static str,
    /// The call that gives money back, and how many questions go before it.
    refunds: (&'static str, u32),
    /// Whether the gateway takes a bill back. A UPI intent is in the customer's hands.
    cancels: bool,
}

const WAYS: &[Way] = &[
    Way {
        gateway: "razorpay",
        mode: "payment_link",
        account: razorpay,
        entrance: Entrance::Link,
        makes: Some("create_payment_link"),
        news: "payment_link.paid",
        refunds: ("create_refund", 0),
        cancels: true,
    },
    Way {
        gateway: "razorpay",
        mode: "payment_link",
        account: razorpay_upi,
        entrance: Entrance::Link,
        makes: Some("create_payment_link"),
        news: "payment_link.paid",
        refunds: ("create_refund", 0),
        cancels: true,
    },
    native("razorpay", razorpay),
    Way {
        gateway: "payu",
        mode: "payment_link",
        account: payu,
        entrance: Entrance::Link,
        makes: Some("create_payment_link"),
        news: "payment_success",
        refunds: ("cancel_refund_transaction", 0),
        cancels: true,
    },
    native("payu", payu),
    Way {
        gateway: "zaakpay",
        mode: "payment_link",
        account: zaakpay,
        entrance: Entrance::Page("orderId"),
        makes: None,
        news: "txn.success",
        refunds: ("update_txn", 1),
        cancels: true,
    },
    native("zaakpay", zaakpay),
    Way {
        gateway: "billdesk",
        mode: "payment_link",
        account: billdesk,
        entrance: Entrance::Page("bdorderid"),
        makes: Some("create_order"),
        news: "transaction.success",
        refunds: ("create_refund", 1),
        cancels: true,
    },
    Way {
        gateway: "billdesk",
        mode: "upi_intent",
        account: billdesk,
        entrance: Entrance::Intent,
        makes: Some("create_transaction"),
        news: "transaction.success",
        refunds: ("create_refund", 1),
        cancels: false,
    },
    native("billdesk", billdesk),
];

/// Inside WhatsApp all gateways look alike: Meta makes the payment, tells of it and gives it back.
const fn native(gateway: &'static str, account: fn() -> Account) -> Way {
    Way {
        gateway,
        mode: "payment_gateway",
        account,
        entrance: Entrance::Tap,
        makes: None,
        news: "payment.captured",
        refunds: ("refund_payment", 1),
        cancels: true,
    }
}

/// A shop's account at a gateway, as the tenant's document and the sandbox have it.
struct Account {
    name: String,
    credentials: Value,
    sandbox: Value,
}

fn razorpay_with(key: &str, upi_link: bool) -> Account {
    let name = format!("{key}{}", random(14));
    let (key_secret, hook) = (secret(24), secret(24));
    let mut credentials =
        json!({"key_id": name, "key_secret": key_secret, "webhook_secrets": [hook]});
    if upi_link {
        credentials["upi_link"] = json!(true);
    }
    Account {
        credentials,
        sandbox: json!({"key_id": name, "key_secret": key_secret, "webhook_secret": hook}),
        name,
    }
}

fn razorpay() -> Account {
    razorpay_with("rzp_test_", false)
}

/// Razorpay has UPI links in live mode only.
fn razorpay_upi() -> Account {
    razorpay_with("rzp_live_", true)
}

fn payu() -> Account {
    let (name, salt) = (random(8), secret(32));
    let (client, client_secret) = (random(32), secret(32));
    Account {
        credentials: json!({
            "key": name, "salts": [salt], "client_id": client, "client_secret": client_secret, "merchant_id": "8237550",
            "callback_token": secret(24),
        }),
        sandbox: json!({
            "key": name, "salt": salt, "client_id": client, "client_secret": client_secret, "merchant_id": "8237550",
        }),
        name,
    }
}

fn zaakpay() -> Account {
    let (name, key) = (random(32), secret(32));
    Account {
        credentials: json!({
            "merchant_identifier": name, "secret_keys": [key], "buyer_email": "till@teststores.example",
        }),
        sandbox: json!({"merchant_identifier": name, "secret_key": key}),
        name,
    }
}

fn billdesk() -> Account {
    let name = format!("bd{}", random(8));
    let sandbox = json!({
        "client_id": name, "merchant_id": "BDMERCID", "security": "jose", "signing_key": secret(32), "signing_key_id": "s1",
        "encryption_key": secret(32), "encryption_key_id": "e1", "vpa": "acme@hdfcbank",
    });
    let mut credentials = sandbox.clone();
    credentials["merchant_category"] = json!("5411");
    credentials["merchant_name"] = json!("Test Stores");
    Account {
        name,
        credentials,
        sandbox,
    }
}

impl Way {
    fn name(&self) -> String {
        let upi = (self.account)().credentials["upi_link"] == true;
        let kind = if upi { " (UPI only)" } else { "" };
        format!("{} {}{kind}", self.gateway, self.mode)
    }

    /// Who tells of a payment, can be asked about it and gives it back.
    fn teller(&self) -> &'static str {
        match self.entrance {
            Entrance::Tap => "meta",
            _ => self.gateway,
        }
    }

    fn plan(&self, plan: &mut Plan, account: &Account, vendors: &str) {
        let url = plan.accounts["razorpay"]["webhook_url"].as_str().unwrap();
        let url = url.replace("razorpay", self.gateway);
        let accounts = plan.accounts.as_object_mut().unwrap();
        accounts.remove("razorpay");
        let mut there = account.sandbox.clone();
        // As it is written into the vendor's dashboard.
        there["webhook_url"] = match account.credentials["callback_token"].as_str() {
            Some(token) => json!(format!("{url}?token={token}")),
            None => json!(url),
        };
        accounts.insert(self.gateway.to_owned(), there);
        plan.accounts["meta"]["configurations"] = json!([{
            "configuration_name": "pay", "provider_name": self.gateway, "gateway_account": account.name,
        }]);
        plan.document["payment"] = json!({
            "mode": self.mode, "gateway": self.gateway, "base_url": format!("{vendors}/{}", self.gateway),
            "credentials": account.credentials,
        });
        // A customer who has not written can be told of a refund by a template only.
        plan.document["channel"]["templates"]["refund"] =
            json!({"name": "refund", "language": "en", "parameters": ["amount", "reference_id"]});
        let templates = plan.accounts["meta"]["templates"].as_array_mut().unwrap();
        templates.push(json!({"name": "refund", "language": "en", "kind": "body", "variables": 2}));
        if self.entrance == Entrance::Tap {
            plan.document["payment"]["configuration_name"] = json!("pay");
        }
    }
}

/// Does the same for every way at once, and says for which it did not hold.
fn each(wanted: impl Fn(&Way) -> bool, test: impl Fn(&'static Way) + Sync) {
    let failed: Vec<String> = thread::scope(|scope| {
        let test = &test;
        let runs: Vec<_> = WAYS
            .iter()
            .filter(|way| wanted(way))
            .map(|way| {
                let run = thread::Builder::new().name(way.name());
                (way, run.spawn_scoped(scope, move || test(way)).unwrap())
            })
            .collect();
        assert!(!runs.is_empty());
        runs.into_iter()
            .filter_map(|(way, run)| run.join().is_err().then(|| way.name()))
            .collect()
    });
    assert!(failed.is_empty(), "not so with {failed:#?}");
}

/// All ways.
fn all(_: &Way) -> bool {
    true
}

/// A shop that is paid in one way, with vendors of its own.
struct Counter {
    way: &'static Way,
    shop: Shop,
    url: String,
    // The sandbox ends before the runtime that drives it.
    _sandbox: Sandbox,
    _runtime: Runtime,
}

impl Counter {
    fn open(way: &'static Way) -> Self {
        Self::with(way, |_| ())
    }

    fn with(way: &'static Way, change: impl FnOnce(&mut Plan)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let sandbox = runtime.block_on(Sandbox::start()).unwrap();
        let url = sandbox.url();
        let account = (way.account)();
        let shop = Shop::at(&url, |plan| {
            way.plan(plan, &account, &url);
            change(plan);
        });
        Self {
            way,
            shop,
            url,
            _sandbox: sandbox,
            _runtime: runtime,
        }
    }

    /// The customer at the gateway, with the bill before them.
    fn enter(&self, reference: &str) -> Visit<'_> {
        let order = self.shop.order(reference);
        let payment = &order["payment"];
        let link = || payment["link"].as_str().unwrap();
        let (mut who, mut page) = (json!({"method": "upi"}), None);
        match self.way.entrance {
            Entrance::Link => who["link"] = json!(link()),
            Entrance::Intent => who["link"] = payment["upi_intent"].clone(),
            Entrance::Tap => {
                who["vendor"] = json!("meta");
                who["reference_id"] = json!(reference);
            }
            Entrance::Page(field) => {
                // Also what the message and the code lead to.
                let form = browser::form(&http::get(link(), &[]), "");
                let reply = form.post();
                assert_eq!(reply.status, 200, "{}", reply.text());
                who["vendor"] = json!(self.way.gateway);
                who["reference_id"] = json!(form.value(field));
                page = Some(reply);
            }
        }
        Visit {
            counter: self,
            who,
            page,
        }
    }

    fn fault(&self, vendor: &str, fault: Value) {
        let mut fault = fault;
        fault["vendor"] = json!(vendor);
        self.shop.control("faults", &fault);
    }

    /// Something about the webhooks that tell of payments, for those of the gateway and of Meta.
    fn webhooks(&self, kind: &str) {
        self.fault(self.way.gateway, json!({"kind": kind, "times": null}));
        if self.way.entrance == Entrance::Tap {
            let payments = json!({"kind": kind, "operation": "payment", "times": null});
            self.fault("meta", payments);
        }
    }

    /// Nothing goes wrong any more.
    fn mend(&self) {
        let url = format!("{}/_control/faults", self.url);
        http::send("DELETE", &url, &[], None).json(200);
    }

    /// Every webhook about payments, whoever sent it.
    fn told(&self) -> Vec<Value> {
        let hooks = self.shop.seen("webhooks")["webhooks"].clone();
        let hooks = hooks.as_array().unwrap().iter();
        hooks
            .filter(|hook| hook["vendor"] != "meta" || hook["event"] == self.way.news)
            .cloned()
            .collect()
    }

    /// Waits until no webhook is on its way.
    fn settle(&self) {
        let idle = eventually(|| {
            let wait = json!({"timeout_ms": 10_000});
            (self.shop.control("webhooks/wait", &wait)["idle"] == true).then_some(())
        });
        assert!(idle.is_some(), "webhooks are tried again and again");
    }

    fn calls(&self, vendor: &str, operation: &str) -> usize {
        let path = format!("received?vendor={vendor}&operation={operation}");
        let received = self.shop.seen(&path)["received"].clone();
        received.as_array().unwrap().len()
    }

    /// Pays a new bill and waits until the customer knows.
    fn sell_and_be_paid(&self) -> String {
        let reference = self.shop.sell_and_deliver();
        self.enter(&reference).act("pay", json!({}));
        self.shop.until_confirmed(&reference);
        reference
    }

    /// What must hold of a bill that is paid: once, in full, and the customer knows of it once.
    fn assert_paid(&self, reference: &str) {
        let order = self.shop.until_confirmed(reference);
        self.settle();
        assert_eq!(order["fulfilment_status"], "completed", "{order:#}");
        assert_eq!(order["payment"]["captured"]["value"], 85_000, "{order:#}");
        assert_eq!(held(&order), [""; 0], "{order:#}");
        let order = self.shop.order(reference);
        let attempts = order["payment"]["attempts"].as_array().unwrap();
        let captured = attempts.iter().filter(|a| a["status"] == "captured");
        assert_eq!(captured.count(), 1, "{order:#}");
        let inbox = self.shop.inbox(&self.shop.phone);
        assert_eq!(inbox.len(), 2, "the bill and the news: {inbox:?}");
        assert!(self.receipt(reference).contains("Paid"));
    }

    /// What must hold of money that may not count: somebody looks at it, and the customer hears nothing.
    fn assert_held(&self, reference: &str, reason: &str, messages: usize) -> Value {
        self.shop.until(reference, "the money to be held", |order| {
            !held(order).is_empty()
        });
        self.settle();
        let order = self.shop.order(reference);
        assert_eq!(held(&order), [reason], "{order:#}");
        assert_ne!(order["payment_status"], "captured", "{order:#}");
        assert_eq!(message(&order, "paid"), &json!(null), "{order:#}");
        let inbox = self.shop.inbox(&self.shop.phone);
        assert_eq!(inbox.len(), messages, "{inbox:?}");
        order
    }

    fn receipt(&self, reference: &str) -> String {
        let order = self.shop.order(reference);
        let page = http::get(order["receipt_url"].as_str().unwrap(), &[]);
        assert_eq!(page.status, 200, "{}", page.text());
        page.text()
    }
}

/// A customer who has the bill open at the gateway; what becomes of the bill meanwhile does not close it.
struct Visit<'a> {
    counter: &'a Counter,
    who: Value,
    page: Option<Reply>,
}

impl Visit<'_> {
    #[track_caller]
    fn act(&self, act: &str, how: Value) -> Value {
        let mut request = self.who.clone();
        let fields = request.as_object_mut().unwrap();
        fields.extend(how.as_object().unwrap().clone());
        self.counter
            .shop
            .control(&format!("customer/{act}"), &request)
    }
}

/// What a gateway accepts is what the table has, no more and no less.
#[test]
fn every_gateway_has_a_row_for_each_of_its_modes() {
    for gateway in chatbill_gateways::names() {
        let row = WAYS
            .iter()
            .find(|way| way.gateway == gateway)
            .unwrap_or_else(|| panic!("no test pays through {gateway}: add it to WAYS"));
        for mode in ["payment_link", "payment_gateway", "upi_intent"] {
            let mut document = tenant_json();
            document["payment"] = json!({
                "mode": mode, "gateway": gateway, "base_url": "http://127.0.0.1:9", "configuration_name": "pay",
                "credentials": (row.account)().credentials,
            });
            let tenant = Tenant::read(&document.to_string(), true).unwrap();
            let is_offered = chatbill_gateways::open(&tenant).is_ok();
            let is_tested = WAYS
                .iter()
                .any(|way| (way.gateway, way.mode) == (gateway, mode));
            assert_eq!(is_offered, is_tested, "{gateway} {mode}");
        }
    }
}
