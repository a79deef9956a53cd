//! Razorpay, Meta and Exotel as far as the flows need them, with their memory: what they did is the truth a run is judged by.

use std::collections::{BTreeMap, BTreeSet};

use chatbill_domain::event::Event;
use chatbill_domain::http::{Answer, HttpCall, HttpReply, Method};
use chatbill_domain::ids::OrderKey;
use chatbill_domain::message::{Form, Progress, Report, Tag};
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::builders;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::rng::Rng;
use crate::world::State;

/// The secret in the address Exotel reports to.
pub(crate) const TOKEN: &str = "a-token-of-24-characters";
/// The secret of the neighbour's webhook at the gateway; the account is the same.
pub(crate) const NEIGHBOUR_SECRET: &str = "the-neighbour-s-webhook-secret";
/// The secret of the webhook of the tenant's second account at the gateway.
pub(crate) const SECOND_SECRET: &str = "second-webhook-secret";
/// `rzp_test_2:second-key-secret`, as it stands in a header.
const SECOND_KEY: &str = "Basic cnpwX3Rlc3RfMjpzZWNvbmQta2V5LXNlY3JldA==";
/// The tenant all runs have.
pub(crate) const ACME: &str = "acme";
/// The neighbour.
const BRAVO: &str = "bravo";
/// A try whose answer is out is not repeated sooner than this, milliseconds: `delivery::UNKNOWN_WAIT` less what clocks may differ.
const BLIND: i64 = 112_000;

/// A process that began before the customer's word was stored may still send, milliseconds: `send-status`'s time-out.
const PATIENCE: i64 = 61_000;

/// What a customer pays, and how it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paid {
    /// What is taken from the customer, the fee included and the offer taken off.
    pub(crate) amount: i64,
    /// The gateway's fee in it.
    pub(crate) fee: i64,
    /// The gateway's offer not in it.
    pub(crate) offer: i64,
    /// `captured` or `failed`.
    pub(crate) status: &'static str,
    /// No webhook will tell.
    pub(crate) silent: bool,
}

/// All vendors.
#[derive(Debug)]
pub(crate) struct Vendors {
    pub(crate) rng: Rng,
    /// How often vendors refuse or fail what they usually take, in a thousand.
    pub(crate) moody: u32,
    /// How far the gateway's clock is ahead, seconds.
    pub(crate) ahead: i64,
    /// How long the gateway remembers idempotency keys, milliseconds. Its documents do not say.
    pub(crate) memory: i64,
    pub(crate) links: Vec<Link>,
    pub(crate) payments: Vec<Payment>,
    pub(crate) refunds: Vec<Refund>,
    keys: BTreeMap<String, (i64, Vec<u8>, usize)>,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) hooks: Vec<Hook>,
    /// Bills that can be paid inside WhatsApp, by the references of their messages.
    pub(crate) checkouts: Vec<Checkout>,
    /// Another tenant has the same account: every event of it goes to both.
    pub(crate) shared: bool,
    /// The customer bears the gateway's fee, paise.
    pub(crate) fee: i64,
    made: u32,
}

impl Default for Vendors {
    fn default() -> Self {
        Self {
            rng: Rng::new(0),
            moody: 0,
            ahead: 0,
            memory: i64::MAX,
            links: Vec::new(),
            payments: Vec::new(),
            refunds: Vec::new(),
            keys: BTreeMap::new(),
            accepted: Vec::new(),
            hooks: Vec::new(),
            checkouts: Vec::new(),
            shared: false,
            fee: 0,
            made: 0,
        }
    }
}

/// A bill with a way to pay inside WhatsApp, as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    /// Whose it is.
    pub(crate) owner: OrderKey,
    /// The reference of the message.
    pub(crate) reference: String,
    notes: Value,
}

/// Accounts at the gateway. Only the first is anybody else's, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    First,
    Second,
}

impl Account {
    fn of(call: &HttpCall) -> Self {
        let key = call.authorization.as_ref().map(|a| a.expose_secret());
        if key == Some(SECOND_KEY) {
            Self::Second
        } else {
            Self::First
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) id: String,
    account: Account,
    /// Whose it is; nobody's here when it was made in the dashboard.
    pub(crate) owner: Option<OrderKey>,
    pub(crate) reference: String,
    amount: i64,
    pub(crate) status: &'static str,
    pub(crate) expire_by: i64,
    notes: Value,
    order: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) id: String,
    /// Whose money it is.
    pub(crate) owner: Option<OrderKey>,
    pub(crate) through: Through,
    /// What was taken from the customer.
    pub(crate) amount: i64,
    /// Of this, what the customer pays the gateway on top of the bill.
    pub(crate) fee: i64,
    /// What an offer of the gateway took off the bill.
    pub(crate) offer: i64,
    /// `failed` or `captured`.
    pub(crate) status: &'static str,
    created_at: i64,
    /// None of its webhooks will ever come.
    pub(crate) silent: bool,
}

impl Payment {
    /// What it is worth to the bill.
    pub(crate) const fn worth(&self) -> i64 {
        self.amount - self.fee + self.offer
    }
}

/// Where a payment was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    Link(usize),
    Checkout(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Refund {
    pub(crate) id: String,
    pub(crate) payment: String,
    pub(crate) amount: i64,
    /// Our token; a dashboard's refund has none.
    pub(crate) token: Option<String>,
    /// `pending`, `processed` or `failed`.
    pub(crate) status: &'static str,
    notes: Value,
    created_at: i64,
    /// When a pending one is settled, milliseconds.
    pub(crate) settles: i64,
    /// We asked the messaging provider for it.
    pub(crate) native: bool,
}

/// A message a provider took.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    tenant: &'static str,
    pub(crate) tag: Tag,
    /// The provider says that it did not arrive.
    pub(crate) failed: bool,
}

/// A webhook on its way.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) id: u32,
    /// Whose address it goes to.
    pub(crate) tenant: &'static str,
    pub(crate) source: &'static str,
    pub(crate) raw: RawWebhook,
    pub(crate) about: About,
    pub(crate) label: String,
    /// Not before this, milliseconds.
    pub(crate) at: i64,
    pub(crate) tries: u32,
}

/// What must be there once a webhook was acknowledged.
#[derive(Debug, Clone)]
pub(crate) enum About {
    /// A payment in this state, of this order.
    Payment(OrderKey, String, &'static str, i64),
    Refund(String),
    Message(Tag, &'static str),
    /// What the customer wrote.
    Wrote(String),
    Other,
}

impl Vendors {
    fn name(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_{}", self.made)
    }

    /// An event of the gateway's account goes to everybody who has told it an address, each signed with a secret of their own.
    fn announce(
        &mut self,
        account: Account,
        now: i64,
        event: &str,
        payload: &Value,
        about: &About,
        label: &str,
    ) {
        let addresses: &[(&'static str, &str)] = match account {
            Account::Second => &[(ACME, SECOND_SECRET)],
            Account::First if self.shared => {
                &[(ACME, "test-webhook-secret"), (BRAVO, NEIGHBOUR_SECRET)]
            }
            Account::First => &[(ACME, "test-webhook-secret")],
        };
        for (tenant, secret) in addresses {
            let is_theirs = match about {
                About::Payment(owner, ..) => owner.tenant.as_str() == *tenant,
                _ => true,
            };
            let about = if is_theirs {
                about.clone()
            } else {
                About::Other
            };
            let raw = signed(event, now / 1000, payload, secret);
            self.hook(tenant, "razorpay", now, about, label.to_owned(), raw);
        }
    }

    fn hook(
        &mut self,
        tenant: &'static str,
        source: &'static str,
        at: i64,
        about: About,
        label: String,
        raw: RawWebhook,
    ) {
        self.made += 1;
        self.hooks.push(Hook {
            id: self.made,
            tenant,
            source,
            raw,
            about,
            label,
            at,
            tries: 0,
        });
    }

    fn link_json(&self, index: usize) -> Value {
        let link = &self.links[index];
        let captured: Vec<Value> = self
            .payments
            .iter()
            .filter(|p| p.through == Through::Link(index) && p.status == "captured")
            .map(|p| json!({"payment_id": p.id, "amount": p.amount, "status": "captured", "method": "upi", "created_at": p.created_at}))
            .collect();
        json!({
            "id": link.id, "short_url": format!("https://rzp.io/i/{}", link.id), "status": link.status, "amount": link.amount,
            "amount_paid": if link.status == "paid" { link.amount } else { 0 }, "currency": "INR",
            "reference_id": link.reference, "expire_by": link.expire_by, "notes": link.notes, "order_id": link.order,
            "payments": captured
        })
    }

    fn payment_json(&self, payment: &Payment) -> Value {
        let (order, notes) = match payment.through {
            Through::Link(link) => (
                json!(self.links[link].order),
                self.links[link].notes.clone(),
            ),
            Through::Checkout(checkout) => (
                json!(format!("order_of_{}", payment.id)),
                self.checkouts[checkout].notes.clone(),
            ),
        };
        let refunded = self.given_back(&payment.id);
        let mut json = json!({
            "id": payment.id, "amount": payment.amount, "currency": "INR", "status": payment.status, "order_id": order,
            "method": "upi", "created_at": payment.created_at, "notes": notes, "amount_refunded": refunded,
            "refund_status": if refunded == 0 { Value::Null } else if refunded < payment.amount { "partial".into() } else { "full".into() },
            "captured": payment.status == "captured", "vpa": "pallavi@ok", "contact": "+919876543210"
        });
        if payment.fee > 0 {
            json["fee"] = json!(payment.fee);
            json["fee_bearer"] = json!("customer");
        }
        if payment.offer > 0 {
            json["offer_id"] = json!("offer_1");
        }
        json
    }

    /// What of a payment went back or is on its way.
    pub(crate) fn given_back(&self, payment: &str) -> i64 {
        let counts = |r: &&Refund| r.payment == payment && r.status != "failed";
        self.refunds.iter().filter(counts).map(|r| r.amount).sum()
    }

    /// A customer pays, or fails to.
    pub(crate) fn pay(&mut self, now: i64, through: Through, paid: Paid) {
        let created_at = now / 1000 + self.ahead;
        let owner = match through {
            Through::Link(link) => {
                self.links[link].order = Some(format!("order_{link}"));
                self.links[link].owner.clone()
            }
            Through::Checkout(checkout) => Some(self.checkouts[checkout].owner.clone()),
        };
        let id = self.name("pay");
        self.payments.push(Payment {
            id,
            owner,
            through,
            amount: paid.amount,
            fee: paid.fee,
            offer: paid.offer,
            status: "failed",
            created_at,
            silent: paid.silent,
        });
        let index = self.payments.len() - 1;
        if paid.status == "captured" {
            self.capture(now, index);
        } else {
            self.tell_of_payment(now, index, "payment.failed");
        }
    }

    /// The bank took the money; for an attempt that had failed it changed its mind.
    pub(crate) fn capture(&mut self, now: i64, index: usize) {
        self.payments[index].status = "captured";
        let Through::Link(link) = self.payments[index].through else {
            // The messaging provider tells of it, and the gateway's account has the event as well.
            self.tell_of_payment(now, index, "whatsapp");
            if self.rng.permille(500) {
                self.tell_of_payment(now, index, "payment.captured");
            }
            return;
        };
        let first = self.links[link].status == "created";
        if first {
            self.links[link].status = "paid";
        }
        let mut told = false;
        for event in ["payment.captured", "order.paid"] {
            if self.rng.permille(500) {
                self.tell_of_payment(now, index, event);
                told = true;
            }
        }
        if first {
            self.tell_of_payment(now, index, "payment_link.paid");
        } else if !told {
            self.tell_of_payment(now, index, "payment.captured");
        }
    }

    fn tell_of_payment(&mut self, now: i64, index: usize, event: &str) {
        let payment = self.payments[index].clone();
        if payment.silent {
            return;
        }
        let about = match &payment.owner {
            Some(owner) => About::Payment(
                owner.clone(),
                payment.id.clone(),
                payment.status,
                payment.amount,
            ),
            None => About::Other,
        };
        let label = format!("{event} {} of {}", payment.id, payment.amount);
        if event == "whatsapp" {
            let raw = self.meta_payment(&payment, now);
            return self.hook(ACME, "meta", now, about, label, raw);
        }
        let mut payload = json!({"payment": {"entity": self.payment_json(&payment)}});
        if let Through::Link(link) = payment.through {
            match event {
                "payment_link.paid" => {
                    payload["payment_link"] = json!({"entity": self.link_json(link)});
                }
                "order.paid" => {
                    let link = &self.links[link];
                    payload["order"] = json!({"entity": {"id": link.order, "receipt": link.reference, "notes": link.notes,
                        "amount": link.amount, "amount_paid": link.amount, "status": "paid"}});
                }
                _ => {}
            }
        }
        // A payment inside WhatsApp is known to the gateway, too; what must be known of it the provider tells.
        let about = match payment.through {
            Through::Link(_) => about,
            Through::Checkout(_) => About::Other,
        };
        let account = self.account(payment.through);
        self.announce(account, now, event, &payload, &about, &label);
    }

    /// At which account a payment is.
    fn account(&self, through: Through) -> Account {
        match through {
            Through::Link(link) => self.links[link].account,
            Through::Checkout(_) => Account::First,
        }
    }

    /// At which account a payment of this id is.
    fn has(&self, account: Account, payment: &str) -> bool {
        self.payments
            .iter()
            .any(|p| p.id == payment && self.account(p.through) == account)
    }

    /// Meta, "Webhooks, payment status".
    fn meta_payment(&self, payment: &Payment, now: i64) -> RawWebhook {
        let transaction = self.meta_transaction(payment);
        let Through::Checkout(checkout) = payment.through else {
            return meta_signed(&json!({}));
        };
        let of_payment = self.refunds.iter().filter(|r| r.payment == payment.id);
        let refunds: Vec<Value> = of_payment.map(meta_refund_json).collect();
        meta_signed(
            &json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp", "metadata": {"phone_number_id": "106540352242922"}, "statuses": [{
                "id": "x", "recipient_id": "919876543210", "type": "payment",
                "status": if payment.status == "captured" { "captured" } else { "pending" },
                "payment": {"reference_id": self.checkouts[checkout].reference, "amount": {"value": payment.amount, "offset": 100},
                    "currency": "INR", "transaction": transaction, "refunds": refunds},
                "timestamp": (now / 1000).to_string()}]}}]}]}),
        )
    }

    fn meta_transaction(&self, payment: &Payment) -> Value {
        json!({"id": format!("order_of_{}", payment.id), "pg_transaction_id": payment.id, "type": "razorpay",
            "status": if payment.status == "captured" { "success" } else { "failed" },
            "created_timestamp": payment.created_at, "updated_timestamp": payment.created_at, "method": {"type": "upi"}})
    }

    /// Meta, "Payment gateway integrations": lookup and refund.
    fn meta_payments(&mut self, now: i64, call: &HttpCall) -> HttpReply {
        if call.label == "meta.refund" {
            return self.meta_refund(now, &body(call));
        }
        let reference = call.url.rsplit('/').next().unwrap_or_default();
        let payments: Vec<Value> = self
            .payments
            .iter()
            .filter(|p| matches!(p.through, Through::Checkout(c) if self.checkouts[c].reference == reference))
            .map(|p| {
                let mut transaction = self.meta_transaction(p);
                transaction["amount"] = json!({"value": p.amount, "offset": 100});
                transaction["currency"] = json!("INR");
                transaction["refunds"] = self.refunds.iter().filter(|r| r.payment == p.id).map(meta_refund_json).collect();
                json!({"reference_id": reference, "status": if p.status == "captured" { "captured" } else { "pending" },
                    "amount": {"value": p.amount, "offset": 100}, "currency": "INR", "transactions": [transaction]})
            })
            .collect();
        reply(200, &json!({"payments": payments}))
    }

    /// Meta's call names the bill only, and has no device against doing it twice.
    fn meta_refund(&mut self, now: i64, wanted: &Value) -> HttpReply {
        let reference = wanted["reference_id"].as_str().unwrap_or_default();
        let amount = wanted["amount"]["value"]
            .as_str()
            .and_then(|v| v.parse().ok());
        let payment = self.payments.iter().find(|p| {
            p.status == "captured"
                && matches!(p.through, Through::Checkout(c) if self.checkouts[c].reference == reference)
        });
        let (Some(payment), Some(amount)) = (payment.map(|p| p.id.clone()), amount) else {
            return reply(
                400,
                &json!({"error": {"message": "no such payment", "code": 100}}),
            );
        };
        match self.give_back(now, &payment, amount, None, json!({})) {
            Some(index) => {
                self.refunds[index].native = true;
                let refund = &self.refunds[index];
                reply(
                    200,
                    &json!({"id": refund.id, "status": meta_refund_word(refund), "speed_processed": "normal"}),
                )
            }
            None => reply(
                400,
                &json!({"error": {"message": "more than is left", "code": 100}}),
            ),
        }
    }

    /// A link's end.
    pub(crate) fn expire_links(&mut self, now: i64) {
        for index in 0..self.links.len() {
            if self.links[index].status == "created"
                && now / 1000 + self.ahead >= self.links[index].expire_by
            {
                self.links[index].status = "expired";
                self.tell_of_link(now, index, "payment_link.expired");
            }
        }
    }

    fn tell_of_link(&mut self, now: i64, index: usize, event: &str) {
        let payload = json!({"payment_link": {"entity": self.link_json(index)}});
        let account = self.links[index].account;
        self.announce(account, now, event, &payload, &About::Other, event);
    }

    /// A refund begins, asked for by us or in the dashboard. `None`: the payment has not so much left.
    pub(crate) fn give_back(
        &mut self,
        now: i64,
        payment: &str,
        amount: i64,
        token: Option<String>,
        notes: Value,
    ) -> Option<usize> {
        let captured = self
            .payments
            .iter()
            .find(|p| p.id == payment && p.status == "captured")?
            .amount;
        if amount <= 0 || amount > captured - self.given_back(payment) {
            return None;
        }
        let id = self.name("rfnd");
        let at_once = self.rng.permille(500);
        let settles = now + self.rng.within(60, 2 * 24 * 3600) * 1000;
        self.refunds.push(Refund {
            id,
            payment: payment.to_owned(),
            amount,
            token,
            status: if at_once { "processed" } else { "pending" },
            notes,
            created_at: now / 1000 + self.ahead,
            settles,
            native: false,
        });
        let index = self.refunds.len() - 1;
        self.tell_of_refund(now, index, "refund.created");
        if at_once && self.rng.permille(700) {
            self.tell_of_refund(now, index, "refund.processed");
        }
        Some(index)
    }

    /// The bank's answers to pending refunds.
    pub(crate) fn settle_refunds(&mut self, now: i64) {
        for index in 0..self.refunds.len() {
            if self.refunds[index].status == "pending" && self.refunds[index].settles <= now {
                let fails = self.rng.permille(self.moody);
                self.refunds[index].status = if fails { "failed" } else { "processed" };
                let event = if fails {
                    "refund.failed"
                } else {
                    "refund.processed"
                };
                self.tell_of_refund(now, index, event);
            }
        }
    }

    fn refund_json(&self, refund: &Refund) -> Value {
        json!({
            "id": refund.id, "entity": "refund", "payment_id": refund.payment, "amount": refund.amount, "currency": "INR",
            "status": refund.status, "receipt": refund.token, "notes": refund.notes, "created_at": refund.created_at,
            "speed_processed": "normal", "acquirer_data": {"arn": null}
        })
    }

    fn tell_of_refund(&mut self, now: i64, index: usize, event: &str) {
        let refund = self.refunds[index].clone();
        // What we asked for ourselves we can ask about, so its webhooks may be lost for good.
        if refund.token.is_some() && self.rng.permille(100) {
            return;
        }
        let payment = self.payments.iter().find(|p| p.id == refund.payment);
        let Some(payment) = payment.cloned() else {
            return;
        };
        let payload = json!({
            "refund": {"entity": self.refund_json(&refund)}, "payment": {"entity": self.payment_json(&payment)}
        });
        let label = format!("{event} {} of {}", refund.id, refund.amount);
        // Of a payment inside WhatsApp the messaging provider tells, too.
        let about = match payment.through {
            Through::Link(_) => About::Refund(refund.id.clone()),
            Through::Checkout(_) => {
                let raw = self.meta_payment(&payment, now);
                let about = About::Refund(refund.id.clone());
                self.hook(ACME, "meta", now, about, label.clone(), raw);
                About::Other
            }
        };
        let account = self.account(payment.through);
        self.announce(account, now, event, &payload, &about, &label);
    }

    fn razorpay(&mut self, now: i64, call: &HttpCall) -> HttpReply {
        let path = call.url.trim_start_matches("https://api.razorpay.com/v1/");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').collect();
        let account = Account::of(call);
        let by_id = |links: &[Link], id: &str| {
            links
                .iter()
                .position(|l| l.id == id && l.account == account)
        };
        match (call.method, parts.as_slice()) {
            (Method::Post, ["payment_links"]) => self.create_link(account, now, &body(call)),
            (Method::Get, ["payment_links"]) => {
                let wanted = query.trim_start_matches("reference_id=");
                let found: Vec<Value> = (0..self.links.len())
                    .filter(|i| {
                        let link = &self.links[*i];
                        link.reference == wanted && link.account == account
                    })
                    .map(|i| self.link_json(i))
                    .collect();
                reply(200, &json!({"payment_links": found}))
            }
            (Method::Get, ["payment_links", id]) => match by_id(&self.links, id) {
                Some(index) => reply(200, &self.link_json(index)),
                None => refusal("The id provided does not exist"),
            },
            (Method::Post, ["payment_links", id, "cancel"]) => {
                let Some(index) = by_id(&self.links, id) else {
                    return refusal("The id provided does not exist");
                };
                match self.links[index].status {
                    "created" => {
                        self.links[index].status = "cancelled";
                        self.tell_of_link(now, index, "payment_link.cancelled");
                        reply(200, &self.link_json(index))
                    }
                    "paid" => {
                        refusal("cannot cancel or expire an already paid/partially paid link")
                    }
                    _ => refusal("cannot cancel or expire an expired link"),
                }
            }
            (Method::Get, ["payments", id, "refunds"]) if !self.has(account, id) => {
                refusal("The id provided does not exist")
            }
            (Method::Get, ["orders", id, "payments"]) => {
                let items: Vec<Value> = self
                    .payments
                    .iter()
                    .filter(|p| matches!(p.through, Through::Link(l) if self.links[l].order.as_deref() == Some(*id)))
                    .map(|p| self.payment_json(p))
                    .collect();
                reply(200, &collection(&items))
            }
            (Method::Get, ["payments", id, "refunds"]) => {
                let items: Vec<Value> = self
                    .refunds
                    .iter()
                    .rev()
                    .filter(|r| r.payment == *id)
                    .map(|r| self.refund_json(r))
                    .collect();
                reply(200, &collection(&items))
            }
            (Method::Post, ["payments", id, "refund"]) if !self.has(account, id) => {
                refusal("The id provided does not exist")
            }
            (Method::Post, ["payments", id, "refund"]) => self.create_refund(now, id, call),
            (Method::Get, ["refunds", id]) => match self.refunds.iter().find(|r| r.id == *id) {
                Some(refund) => reply(200, &self.refund_json(refund)),
                None => refusal("The id provided does not exist"),
            },
            _ => reply(
                404,
                &json!({"error": {"code": "NOT_FOUND", "description": call.url}}),
            ),
        }
    }

    fn create_link(&mut self, account: Account, now: i64, wanted: &Value) -> HttpReply {
        let reference = wanted["reference_id"].as_str().unwrap_or_default();
        let is_taken = |l: &Link| l.reference == reference && l.account == account;
        if self.links.iter().any(is_taken) {
            return refusal("payment link creation with reference ID already attempted");
        }
        let expire_by = wanted["expire_by"].as_i64().unwrap_or_default();
        if expire_by < now / 1000 + self.ahead + 900 {
            return refusal("timestamp must be atleast 15 minutes in future");
        }
        let index = self.add_link(Link {
            id: String::new(),
            account,
            owner: owner_of(wanted["description"].as_str().unwrap_or_default()),
            reference: reference.to_owned(),
            amount: wanted["amount"].as_i64().unwrap_or_default(),
            status: "created",
            expire_by,
            notes: wanted["notes"].clone(),
            order: None,
        });
        reply(200, &self.link_json(index))
    }

    fn add_link(&mut self, link: Link) -> usize {
        let id = self.name("plink");
        self.links.push(Link { id, ..link });
        self.links.len() - 1
    }

    /// Somebody makes a link in the gateway's dashboard, with a number that a bill of ours has, and a note of our kind.
    pub(crate) fn link_of_dashboard(
        &mut self,
        now: i64,
        reference: &str,
        amount: i64,
        account: Account,
    ) -> Option<usize> {
        let is_taken = |l: &Link| l.reference == reference && l.account == account;
        if self.links.iter().any(is_taken) {
            return None;
        }
        Some(self.add_link(Link {
            id: String::new(),
            account,
            owner: None,
            reference: reference.to_owned(),
            amount,
            status: "created",
            expire_by: now / 1000 + 24 * 3600,
            notes: json!({"chatbill_reference": reference}),
            order: None,
        }))
    }

    fn create_refund(&mut self, now: i64, payment: &str, call: &HttpCall) -> HttpReply {
        let header = call
            .headers
            .iter()
            .find(|(name, _)| *name == "X-Refund-Idempotency");
        let key = header.map(|(_, key)| key.clone()).unwrap_or_default();
        let bytes = call
            .body
            .as_ref()
            .map(|(_, b)| b.clone())
            .unwrap_or_default();
        let wanted = body(call);
        if let Some((since, before, index)) = self.keys.get(&key)
            && now - since <= self.memory
        {
            if *before != bytes {
                return refusal("Different request with the same idempotency key");
            }
            return reply(200, &self.refund_json(&self.refunds[*index]));
        }
        let amount = wanted["amount"].as_i64().unwrap_or_default();
        let token = wanted["receipt"].as_str().map(str::to_owned);
        if self.rng.permille(self.moody / 4) {
            return refusal(
                "Your account does not have enough balance to carry out the refund operation",
            );
        }
        match self.give_back(now, payment, amount, token, wanted["notes"].clone()) {
            Some(index) => {
                self.keys.insert(key, (now, bytes, index));
                reply(200, &self.refund_json(&self.refunds[index]))
            }
            None if self
                .payments
                .iter()
                .any(|p| p.id == payment && p.amount == self.given_back(payment)) =>
            {
                refusal("The payment has been fully refunded already")
            }
            None => refusal("The refund amount provided is greater than amount captured"),
        }
    }

    /// Takes a message or refuses it, and plans its reports.
    fn take(
        &mut self,
        now: i64,
        tenant: &'static str,
        tag: Tag,
        sms: bool,
        meta: bool,
    ) -> HttpReply {
        if self.rng.permille(self.moody) {
            return if meta {
                let (status, code) = *self.rng.pick(&[
                    (429, 130_429),
                    (400, 131_056),
                    (400, 131_026),
                    (500, 131_000),
                    (500, 1),
                    (400, 131_047),
                    (401, 190),
                ]);
                reply(status, &json!({"error": {"message": "no", "code": code}}))
            } else if sms {
                let code = *self.rng.pick(&[40_402, 40_203, 24_010]);
                reply(
                    400,
                    &json!({"RestException": {"Status": 400, "Code": code, "Message": "no"}}),
                )
            } else {
                let name = *self.rng.pick(&[
                    "EX_INVALID_RECIPIENT",
                    "EX_RATE_LIMIT_HIT",
                    "EX_SYSTEM_ERROR",
                    "EX_SETUP_ERROR",
                ]);
                reply(
                    202,
                    &json!({"http_code": 202, "response": {"whatsapp": {"messages": [
                    {"code": 400, "status": "failure", "data": null, "error_data": {"code": 30_012, "message": name}}]}}}),
                )
            };
        }
        let failed = self.rng.permille(self.moody);
        self.accepted.push(Accepted {
            tenant,
            tag: tag.clone(),
            failed,
        });
        let id = format!("message-{}", self.accepted.len());
        let mut words: Vec<&'static str> = Vec::new();
        if self.rng.permille(600) {
            words.push("sent");
        }
        if failed {
            words.push("failed");
        } else if !self.rng.permille(self.moody) {
            words.push("delivered");
            if !sms && self.rng.permille(200) {
                words.push("read");
            }
        }
        for word in words {
            let at = now + self.rng.within(0, 8) * 1000;
            let raw = if meta {
                self.meta_report(number_of(tenant), &id, &tag, word, at)
            } else {
                self.exotel_report(&id, &tag, word, sms)
            };
            let source = if meta { "meta" } else { "exotel" };
            let label = format!("{word} {tag}");
            self.hook(
                tenant,
                source,
                at,
                About::Message(tag.clone(), word),
                label,
                raw,
            );
        }
        if meta {
            reply(
                200,
                &json!({"messaging_product": "whatsapp", "contacts": [], "messages": [{"id": id}]}),
            )
        } else if sms {
            reply(200, &json!({"SMSMessage": {"Sid": id, "Status": "queued"}}))
        } else {
            reply(
                202,
                &json!({"http_code": 202, "response": {"whatsapp": {"messages": [
                {"code": 202, "status": "success", "data": {"sid": id}}]}}}),
            )
        }
    }

    fn meta_report(
        &mut self,
        number: &str,
        id: &str,
        tag: &Tag,
        word: &str,
        at: i64,
    ) -> RawWebhook {
        let mut status = json!({"id": id, "status": word, "timestamp": (at / 1000).to_string(), "recipient_id": "919876543210",
            "biz_opaque_callback_data": tag.to_string()});
        if word == "failed" {
            let code = *self.rng.pick(&[131_026, 131_047, 131_053, 131_000]);
            status["errors"] = json!([{"code": code, "title": "no"}]);
        }
        meta_signed(
            &json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp", "metadata": {"phone_number_id": number}, "statuses": [status]}}]}]}),
        )
    }

    /// The customer writes to one of the tenants.
    pub(crate) fn write(&mut self, now: i64, source: &'static str, text: &str) {
        let raw = if source == "meta" {
            meta_signed(
                &json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
                "messaging_product": "whatsapp", "metadata": {"phone_number_id": number_of(ACME)},
                "messages": [{"from": "919876543210", "id": "wamid.in", "timestamp": (now / 1000).to_string(), "type": "text",
                    "text": {"body": text}}]}}]}]}),
            )
        } else {
            let body = json!({"whatsapp": {"messages": [{"callback_type": "incoming_message", "sid": "in", "from": "919876543210",
                "to": "918045210677", "timestamp": "2026-11-22T05:30:00Z", "content": {"type": "text", "text": {"body": text}}}]}});
            RawWebhook {
                headers: vec![],
                query: vec![("token".to_owned(), TOKEN.to_owned())],
                body: body.to_string().into_bytes(),
            }
        };
        let about = About::Wrote(text.to_owned());
        self.hook(
            ACME,
            source,
            now,
            about,
            format!("the customer writes {text}"),
            raw,
        );
    }

    fn exotel_report(&mut self, id: &str, tag: &Tag, word: &str, sms: bool) -> RawWebhook {
        let body = if sms {
            let status = match word {
                "sent" => "sent&DetailedStatusCode=20006",
                "failed" => *self.rng.pick(&[
                    "failed&DetailedStatusCode=23010",
                    "failed&DetailedStatusCode=23035",
                ]),
                _ => "sent&DetailedStatusCode=20005",
            };
            let tag = tag.to_string().replace(':', "%3A");
            format!("SmsSid={id}&Status={status}&CustomField={tag}")
        } else {
            let (code, name) = match word {
                "sent" => (30_001, "EX_MESSAGE_SENT"),
                "delivered" => (30_002, "EX_MESSAGE_DELIVERED"),
                "read" => (30_003, "EX_MESSAGE_SEEN"),
                _ => *self.rng.pick(&[
                    (30_018, "EX_REENGAGEMENT_ERROR"),
                    (30_012, "EX_INVALID_RECIPIENT"),
                    (30_004, "EX_SYSTEM_ERROR"),
                ]),
            };
            json!({"whatsapp": {"messages": [{"callback_type": "dlr", "sid": id, "exo_status_code": code,
                "exo_detailed_status": name, "custom_data": tag.to_string()}]}})
            .to_string()
        };
        RawWebhook {
            headers: vec![],
            query: vec![("token".to_owned(), TOKEN.to_owned())],
            body: body.into_bytes(),
        }
    }
}

/// A vendor acts.
pub(crate) fn act(state: &mut State, call: &HttpCall) -> HttpReply {
    let now = state.now;
    match call.label {
        "meta.send_message" => {
            let sent = body(call);
            let tenant = if call.url.contains(number_of(BRAVO)) {
                BRAVO
            } else {
                ACME
            };
            let reply = message(
                state,
                tenant,
                sent["biz_opaque_callback_data"].as_str(),
                false,
                true,
            );
            if reply.status == 200
                && let Some(settings) = find(&sent, "payment_settings")
                && let Some(reference) = find(&sent, "reference_id").and_then(Value::as_str)
                && let Some((tag, _)) = sent["biz_opaque_callback_data"]
                    .as_str()
                    .and_then(Tag::parse_named)
                && let Some(gateway) = find(settings, "payment_gateway")
            {
                let notes = find(gateway, "notes").cloned().unwrap_or_default();
                state.vendors.checkouts.push(Checkout {
                    owner: builders::key(tenant, tag.reference.as_str()),
                    reference: reference.to_owned(),
                    notes,
                });
            }
            reply
        }
        "exotel.send_whatsapp" => {
            let sent = body(call);
            message(state, ACME, sent["custom_data"].as_str(), false, false)
        }
        "exotel.send_sms" => {
            let sent = call
                .body
                .as_ref()
                .map(|(_, b)| String::from_utf8_lossy(b).replace("%3A", ":"));
            let sent = sent.unwrap_or_default();
            let tag = sent.split('&').find_map(|f| f.strip_prefix("CustomField="));
            message(state, ACME, tag, true, false)
        }
        label if label.starts_with("meta.") => state.vendors.meta_payments(now, call),
        _ => state.vendors.razorpay(now, call),
    }
}

/// The value of the first field of this name, wherever it is.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields
            .get(name)
            .or_else(|| fields.values().find_map(|v| find(v, name))),
        Value::Array(items) => items.iter().find_map(|v| find(v, name)),
        _ => None,
    }
}

/// Whose link it is, as its description says.
fn owner_of(description: &str) -> Option<OrderKey> {
    let (name, reference) = description.split_once(" bill ")?;
    let tenant = match name {
        "Acme Stores" => ACME,
        "Bravo Bakery" => BRAVO,
        _ => return None,
    };
    Some(builders::key(tenant, reference))
}

/// A tenant's number at Meta.
fn number_of(tenant: &str) -> &'static str {
    if tenant == BRAVO {
        "206540352242922"
    } else {
        "106540352242922"
    }
}

fn message(
    state: &mut State,
    tenant: &'static str,
    tag: Option<&str>,
    sms: bool,
    meta: bool,
) -> HttpReply {
    let Some((tag, _)) = tag.and_then(Tag::parse_named) else {
        state.wrong(|| format!("a message with the tag {tag:?}"));
        return broken_reply();
    };
    check_sending(state, tenant, &tag, sms);
    let now = state.now;
    state.vendors.take(now, tenant, tag, sms, meta)
}

/// Nothing is said twice, unless nobody could know that it was said, and then not before a report had its time.
fn check_sending(state: &mut State, tenant: &str, tag: &Tag, sms: bool) {
    let key = builders::key(tenant, tag.reference.as_str());
    let Some(item) = state.items.get(&key) else {
        return state.wrong(|| format!("{tag} is sent, and there is no such order"));
    };
    let tried = |attempt: u32| {
        item.events.iter().position(|r| {
            matches!(&r.event, Event::Try { message, attempt: n, .. } if *message == tag.message && *n == attempt)
        })
    };
    let Some(this) = tried(tag.attempt) else {
        return state.wrong(|| format!("{tag} is sent before it is stored that it is tried"));
    };
    // By when the try began: the request itself may be under way for long.
    let began = item.events[this].at.get();
    if state
        .silenced(&key)
        .is_some_and(|since| began - since > PATIENCE)
    {
        return state.wrong(|| format!("{tag} is sent although the customer has said stop"));
    }
    let mut wrong = None;
    for before in state.vendors.accepted.iter().filter(|a| {
        a.tenant == tenant && a.tag.reference == tag.reference && a.tag.message == tag.message
    }) {
        let attempt = before.tag.attempt;
        if attempt >= tag.attempt {
            wrong = Some(format!("{tag} is sent after {}", before.tag));
            break;
        }
        let said =
            |test: &dyn Fn(&Event) -> bool| item.events[..this].iter().any(|r| test(&r.event));
        let failed = said(
            &|e| matches!(e, Event::Report { message, attempt: n, report: Report::Failed(_) } if *message == tag.message && *n == attempt),
        );
        let was_sms = tried(attempt).is_some_and(|at| {
            matches!(
                &item.events[at].event,
                Event::Try {
                    form: Form::Sms,
                    ..
                }
            )
        });
        // That it left the provider counts only until another try begins: it is no arrival.
        let next = tried(attempt + 1).unwrap_or(this);
        let known = item.events[..this]
            .iter()
            .enumerate()
            .any(|(at, r)| match &r.event {
                Event::Sent {
                    message,
                    attempt: n,
                    ..
                } => *message == tag.message && *n == attempt,
                Event::Report {
                    message,
                    attempt: n,
                    report: Report::Progress(progress),
                } => {
                    *message == tag.message
                        && *n == attempt
                        && (*progress > Progress::Sent || at < next)
                }
                _ => false,
            });
        if failed {
            continue;
        }
        if known {
            wrong = Some(format!(
                "{tag} is sent although it was known that {} had been",
                before.tag
            ));
        } else if sms && !before.failed && !was_sms {
            wrong = Some(format!(
                "{tag} is sent by SMS although {} may have arrived",
                before.tag
            ));
        } else if let Some(then) = tried(attempt)
            && item.events[this].at.get() - item.events[then].at.get() < BLIND
        {
            wrong = Some(format!("{tag} is sent blindly after {}", before.tag));
        }
    }
    if let Some(wrong) = wrong {
        state.wrong(|| wrong);
    }
}

/// Requests that arrive after all.
pub(crate) fn arrive_late(state: &mut State) {
    let now = state.now;
    while let Some(index) = state.late.iter().position(|(at, _)| *at <= now) {
        let (_, call) = state.late.remove(index);
        state.note(|| format!("{} arrives late", call.label));
        let _ = act(state, &call);
    }
}

/// Names of refunds that were made more than once.
pub(crate) fn refunded_twice(vendors: &Vendors) -> Option<&str> {
    let mut seen = BTreeSet::new();
    vendors
        .refunds
        .iter()
        .filter_map(|r| r.token.as_deref())
        .find(|token| !seen.insert(*token))
}

pub(crate) fn throttled(call: &HttpCall) -> Answer {
    let body = if call.label.starts_with("meta") {
        json!({"error": {"message": "Rate limit hit", "code": 130_429}})
    } else {
        json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "Request failed: too many requests"}})
    };
    Answer::Reply(reply(429, &body))
}

pub(crate) fn broken() -> Answer {
    Answer::Reply(broken_reply())
}

fn broken_reply() -> HttpReply {
    HttpReply {
        status: 502,
        retry_after: None,
        body: b"<html>".to_vec(),
    }
}

/// A payment that is none: signed with another secret.
pub(crate) fn forged(reference: &str, amount: i64) -> RawWebhook {
    let payload = json!({
        "payment_link": {"entity": {"id": "plink_x", "reference_id": reference, "status": "paid", "amount": amount}},
        "payment": {"entity": {"id": "pay_x", "amount": amount, "currency": "INR", "status": "captured"}}
    });
    signed("payment_link.paid", 1, &payload, "another-secret")
}

fn signed(event: &str, created_at: i64, payload: &Value, secret: &str) -> RawWebhook {
    let body =
        json!({"entity": "event", "event": event, "created_at": created_at, "payload": payload});
    let body = body.to_string().into_bytes();
    let signature = hex(&hmac_sha256(secret.as_bytes(), &body));
    RawWebhook {
        headers: vec![("x-razorpay-signature".to_owned(), signature)],
        query: vec![],
        body,
    }
}

fn meta_signed(body: &Value) -> RawWebhook {
    let body = body.to_string().into_bytes();
    let signature = format!("sha256={}", hex(&hmac_sha256(b"test-app-secret", &body)));
    RawWebhook {
        headers: vec![("x-hub-signature-256".to_owned(), signature)],
        query: vec![],
        body,
    }
}

fn meta_refund_word(refund: &Refund) -> &'static str {
    match refund.status {
        "processed" => "success",
        other => other,
    }
}

fn meta_refund_json(refund: &Refund) -> Value {
    json!({"id": refund.id, "status": meta_refund_word(refund), "amount": {"value": refund.amount, "offset": 100},
        "speed_processed": "normal", "created_timestamp": refund.created_at})
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

fn body(call: &HttpCall) -> Value {
    call.body
        .as_ref()
        .and_then(|(_, b)| serde_json::from_slice(b).ok())
        .unwrap_or_default()
}

fn collection(items: &[Value]) -> Value {
    json!({"entity": "collection", "count": items.len(), "items": items})
}

fn refusal(words: &str) -> HttpReply {
    reply(
        400,
        &json!({"error": {"code": "BAD_REQUEST_ERROR", "description": words}}),
    )
}

fn reply(status: u16, body: &Value) -> HttpReply {
    HttpReply {
        status,
        retry_after: None,
        body: body.to_string().into_bytes(),
    }
}
