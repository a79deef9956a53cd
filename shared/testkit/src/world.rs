//! Everything a function works with, in memory and on one line, and vendors' answers that fit the bill of the builders.

use chatbill_domain::event::{Event, Recorded};
use chatbill_domain::http::Answer;
use chatbill_domain::ids::{OrderKey, ReferenceId};
use chatbill_domain::order::{Draft, Order};
use chatbill_domain::payment::Started;
use chatbill_domain::ports::{Append, Appended, Clock, Created, Due, OrderStore};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::builders::{NOW, bill, bill_with, draft, tenant, tenant_with};
use crate::memory::{
    FixedClock, MemoryDeadLetters, MemoryOrders, MemoryQueue, MemorySettings, MemoryTenants,
    ScriptedHttp, reply,
};
use crate::network::Network;

/// A key of `acme` that may only refund.
pub const REFUND_KEY: &str = "cb_acme_refunds-only-0001";
/// The key of `bina`, another tenant.
pub const OTHER_KEY: &str = "cb_bina_0123456789abcdef";

/// What must never be seen in a log line or an error: the secrets of the tenants, the customer's number and VPA.
const PRIVATE: [&str; 14] = [
    crate::builders::API_KEY,
    REFUND_KEY,
    OTHER_KEY,
    "test-access-token",
    "test-app-secret",
    "test-verify-token",
    "test-key-secret",
    "test-webhook-secret",
    "previous-webhook-secret",
    "bina-secret-0001",
    "9876543210",
    "9812345678",
    "pallavi@ok",
    "0123456789abcdef",
];

/// What of `PRIVATE` stands in this text.
#[must_use]
pub fn leaks(text: &str) -> Vec<&'static str> {
    PRIVATE.into_iter().filter(|p| text.contains(p)).collect()
}

/// All ports in memory. Two tenants: `acme` of the builders and `bina`.
#[derive(Debug, Clone)]
pub struct World {
    /// Counts round trips and breaks.
    pub network: Network,
    /// Stands at [`NOW`].
    pub clock: FixedClock,
    /// Empty.
    pub store: MemoryOrders,
    /// Empty; is also the `Visibility` port.
    pub queue: MemoryQueue,
    /// None.
    pub dead_letters: MemoryDeadLetters,
    /// `acme` and `bina`.
    pub tenants: MemoryTenants,
    /// No answers yet.
    pub http: ScriptedHttp,
    /// `https://shop.example`
    pub settings: MemorySettings,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// The builders' world.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// A world in which the document of `acme` was changed.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Value)) -> Self {
        let acme = tenant_with(|document| {
            let keys = document["api_keys"].as_array_mut().unwrap();
            keys.push(json!({"id": "desk-1", "sha256": hash(REFUND_KEY), "scopes": ["refunds"]}));
            let secrets = &mut document["payment"]["credentials"]["webhook_secrets"];
            *secrets = json!(["test-webhook-secret", "previous-webhook-secret"]);
            change(document);
        });
        let bina = tenant_with(|document| {
            document["tenant_id"] = json!("bina");
            document["display_name"] = json!("Bina Textiles");
            document["api_keys"][0]["sha256"] = json!(hash(OTHER_KEY));
            document["receipt_secrets"] = json!(["bina-secret-0001"]);
            document["payment"]["credentials"]["webhook_secrets"] = json!(["binas-webhook-secret"]);
            document["channel"]["credentials"]["app_secrets"] = json!(["binas-app-secret"]);
        });
        let (network, clock) = (Network::new(), FixedClock::default());
        Self {
            store: MemoryOrders::on(&network),
            queue: MemoryQueue::on(&network, &clock),
            dead_letters: MemoryDeadLetters::on(&network),
            tenants: MemoryTenants::new([acme, bina]),
            http: ScriptedHttp::on(&network),
            settings: MemorySettings::default(),
            network,
            clock,
        }
    }

    /// Stores the order of [`bill`] with these events, one second apart, and moves the clock behind them.
    pub async fn order(&self, events: Vec<Event>) -> Order {
        self.order_of(draft(bill()), events).await
    }

    /// Stores another order of `acme` with the same bill.
    pub async fn order_named(&self, reference: &str, events: Vec<Event>) -> Order {
        let bill = bill_with(|document| document["reference_id"] = json!(reference));
        self.order_of(draft(bill), events).await
    }

    /// Stores this order with these events.
    pub async fn order_of(&self, draft: Draft, events: Vec<Event>) -> Order {
        let Created::New(mut order) = self.store.create(&draft).await.unwrap() else {
            panic!("{} exists already", draft.key);
        };
        for event in events {
            self.clock.advance(1);
            order = self.happen(&order.key, event).await;
        }
        self.network.reset();
        order
    }

    /// Adds one event to an order.
    pub async fn happen(&self, key: &OrderKey, event: Event) -> Order {
        let append = Append {
            once: None,
            events: vec![Recorded::new(self.clock.now(), "test", event)],
            expect: None,
            at_most: None,
            due: Due::Keep,
        };
        match self.store.append(key, &append).await.unwrap() {
            Appended::Done(order) => order,
            other => panic!("{other:?}"),
        }
    }

    /// What happened, for a snapshot: tasks queued, messages put away or held back, vendors called, round trips made, and how
    /// the orders stand.
    #[must_use]
    pub fn effects(&self) -> Value {
        let queued: Vec<String> = self.queue.sent().iter().map(task).collect();
        let postponed: Vec<u32> = self.queue.postponed().iter().map(|(_, s)| *s).collect();
        let buried: Vec<String> = self
            .dead_letters
            .letters()
            .into_iter()
            .map(|letter| format!("{}: {}", letter.group, letter.reason))
            .collect();
        json!({
            "queued": queued,
            "postponed": postponed,
            "buried": buried,
            "calls": self.http.labels(),
            "round_trips": self.network.round_trips(),
            "orders": self.store.orders().iter().map(standing).collect::<Value>(),
        })
    }
}

fn task(task: &chatbill_domain::ports::DeliverTask) -> String {
    format!("{} {} {}", task.key(), task.message, task.attempt)
}

/// How an order stands, short.
#[must_use]
pub fn standing(order: &Order) -> Value {
    let messages: Vec<String> = order
        .messages
        .iter()
        .map(|m| format!("{} {}", m.key, m.status.as_str()))
        .collect();
    let holds: Vec<&str> = order
        .holds
        .iter()
        .map(|(hold, _, _)| hold.as_str())
        .collect();
    json!({
        "order": order.key.to_string(),
        "payment": order.payment_status().as_str(),
        "fulfilment": order.fulfilment.as_str(),
        "messages": messages,
        "held": holds,
    })
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

/// The link that [`razorpay_link`] shows, as an event.
#[must_use]
pub fn started() -> Event {
    Event::Started(Started {
        id: "plink_QK0000000000l1".to_owned(),
        link: "https://rzp.io/rzp/QK00l1".to_owned(),
        expires_at: NOW.plus_seconds(1890),
        extra: None,
    })
}

/// The first sending of the bill, taken by the provider.
#[must_use]
pub fn bill_sent() -> Vec<Event> {
    let message = chatbill_domain::message::MessageKey::Invoice(1);
    vec![
        started(),
        Event::Try {
            message: message.clone(),
            attempt: 1,
            form: chatbill_domain::message::Form::Template,
            fallback: false,
            sms: false,
        },
        Event::Sent {
            message,
            attempt: 1,
            id: "wamid.1".to_owned(),
            segments: None,
        },
    ]
}

/// Razorpay's payment link of 850 rupees in this state.
#[must_use]
pub fn razorpay_link(reference: &str, status: &str) -> Value {
    let paid = status == "paid";
    let payments = if paid {
        json!([{"amount": 85_000, "created_at": NOW.seconds() + 90, "method": "upi", "payment_id": "pay_QK0000000000p1",
            "plink_id": "plink_QK0000000000l1", "status": "captured", "updated_at": NOW.seconds() + 95}])
    } else {
        json!([])
    };
    json!({
        "accept_partial": false, "amount": 85_000, "amount_paid": if paid { 85_000 } else { 0 }, "cancelled_at": 0,
        "created_at": NOW.seconds(), "currency": "INR", "customer": {}, "expire_by": NOW.seconds() + 1890, "expired_at": 0,
        "id": "plink_QK0000000000l1", "notes": {"chatbill_reference": reference, "chatbill_mark": mark(reference)},
        "payments": payments,
        "reference_id": reference, "short_url": "https://rzp.io/rzp/QK00l1", "status": status, "user_id": ""
    })
}

/// What the links of the tenant `acme` carry.
#[must_use]
pub fn mark(reference: &str) -> String {
    let reference = ReferenceId::parse(reference).unwrap();
    tenant().payment.proofs.named_mark(&reference).unwrap()
}

/// A list of Razorpay's payment links.
#[must_use]
pub fn razorpay_links(links: &[Value]) -> Value {
    json!({"payment_links": links})
}

/// Razorpay's error document.
#[must_use]
pub fn razorpay_error(description: &str) -> Value {
    json!({"error": {"code": "BAD_REQUEST_ERROR", "description": description, "source": "NA", "step": "NA", "reason": "NA",
        "metadata": {}}})
}

/// Meta took the message.
#[must_use]
pub fn meta_accepted(id: &str) -> Answer {
    reply(
        200,
        &json!({"messaging_product": "whatsapp", "contacts": [{"input": "919876543210", "wa_id": "919876543210"}],
            "messages": [{"id": id}]}),
    )
}

/// Meta did not take the message.
#[must_use]
pub fn meta_error(status: u16, code: i64, title: &str) -> Answer {
    reply(
        status,
        &json!({"error": {"message": format!("(#{code}) {title}"), "type": "OAuthException", "code": code,
            "error_data": {"messaging_product": "whatsapp", "details": title}, "fbtrace_id": "AbCdEf"}}),
    )
}

/// Meta's lookup of a payment of 850 rupees made inside WhatsApp.
#[must_use]
pub fn meta_payment(reference: &str) -> Value {
    json!({"payments": [{
        "reference_id": reference, "status": "captured", "amount": {"value": 85_000, "offset": 100}, "currency": "INR",
        "transactions": [{
            "id": "order_QK0000000000o1", "pg_transaction_id": "pay_QK0000000000p1", "type": "razorpay", "status": "success",
            "created_timestamp": NOW.seconds() + 90, "updated_timestamp": NOW.seconds() + 95,
            "amount": {"value": 85_000, "offset": 100}, "currency": "INR", "method": {"type": "upi"}
        }]
    }]})
}
