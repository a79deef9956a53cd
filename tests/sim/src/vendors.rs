//! Razorpay, Meta and Exotel as far as the flows need them, with their memory: what they did is the truth a run is judged by.

use std::collections::{BTreeMap, BTreeSet};

use chatbill_domain::event::Event;
use chatbill_domain::http::{Answer, HttpCall, HttpReply, Method};
use chatbill_domain::ids::OrderKey;
use chatbill_domain::message::{Form, Progress, Report, Tag};
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::webhook::RawWebhook;
use serde_json::{Value, json};

use crate::rng::Rng;
use crate::world::State;

/// The secret in the address Exotel reports to.
pub(crate) const TOKEN: &str = "a-token-of-24-characters";
/// A try whose answer is out is not repeated sooner than this, milliseconds: `delivery::UNKNOWN_WAIT` less what clocks may differ.
const BLIND: i64 = 112_000;

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
            made: 0,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) id: String,
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
    pub(crate) link: usize,
    pub(crate) amount: i64,
    /// `failed` or `captured`.
    pub(crate) status: &'static str,
    created_at: i64,
    /// None of its webhooks will ever come.
    pub(crate) silent: bool,
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
}

/// A message a provider took.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) tag: Tag,
    /// The provider says that it did not arrive.
    pub(crate) failed: bool,
}

/// A webhook on its way.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) id: u32,
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
    /// A payment in this state, of the order of this reference.
    Payment(String, String, &'static str, i64),
    Refund(String),
    Message(Tag, &'static str),
    Other,
}

impl Vendors {
    fn name(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_{}", self.made)
    }

    fn hook(
        &mut self,
        source: &'static str,
        at: i64,
        about: About,
        label: String,
        raw: RawWebhook,
    ) {
        self.made += 1;
        self.hooks.push(Hook {
            id: self.made,
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
            .filter(|p| p.link == index && p.status == "captured")
            .map(|p| json!({"payment_id": p.id, "amount": p.amount, "status": "captured", "method": "upi", "created_at": p.created_at}))
            .collect();
        json!({
            "id": link.id, "short_url": format!("https://rzp.io/i/{}", link.id), "status": link.status, "amount": link.amount,
            "amount_paid": captured.iter().filter_map(|p| p["amount"].as_i64()).sum::<i64>(), "currency": "INR",
            "reference_id": link.reference, "expire_by": link.expire_by, "notes": link.notes, "order_id": link.order,
            "payments": captured
        })
    }

    fn payment_json(&self, payment: &Payment) -> Value {
        let link = &self.links[payment.link];
        let refunded = self.given_back(&payment.id);
        json!({
            "id": payment.id, "amount": payment.amount, "currency": "INR", "status": payment.status, "order_id": link.order,
            "method": "upi", "created_at": payment.created_at, "notes": link.notes, "amount_refunded": refunded,
            "refund_status": if refunded == 0 { Value::Null } else if refunded < payment.amount { "partial".into() } else { "full".into() },
            "captured": payment.status == "captured", "vpa": "pallavi@ok", "contact": "+919876543210"
        })
    }

    /// What of a payment went back or is on its way.
    pub(crate) fn given_back(&self, payment: &str) -> i64 {
        let counts = |r: &&Refund| r.payment == payment && r.status != "failed";
        self.refunds.iter().filter(counts).map(|r| r.amount).sum()
    }

    /// A customer pays, or fails to. `amount` is what is taken.
    pub(crate) fn pay(
        &mut self,
        now: i64,
        link: usize,
        amount: i64,
        status: &'static str,
        silent: bool,
    ) {
        let created_at = now / 1000 + self.ahead;
        if self.links[link].order.is_none() {
            self.links[link].order = Some(format!("order_{link}"));
        }
        let id = self.name("pay");
        self.payments.push(Payment {
            id,
            link,
            amount,
            status: "failed",
            created_at,
            silent,
        });
        let index = self.payments.len() - 1;
        if status == "captured" {
            self.capture(now, index);
        } else {
            self.tell_of_payment(now, index, "payment.failed");
        }
    }

    /// The bank took the money; for an attempt that had failed it changed its mind.
    pub(crate) fn capture(&mut self, now: i64, index: usize) {
        self.payments[index].status = "captured";
        let link = self.payments[index].link;
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
        let link = self.links[payment.link].clone();
        let mut payload = json!({"payment": {"entity": self.payment_json(&payment)}});
        match event {
            "payment_link.paid" => {
                payload["payment_link"] = json!({"entity": self.link_json(payment.link)});
            }
            "order.paid" => {
                payload["order"] = json!({"entity": {"id": link.order, "receipt": link.reference, "notes": link.notes}});
            }
            _ => {}
        }
        let about = About::Payment(
            link.reference,
            payment.id.clone(),
            payment.status,
            payment.amount,
        );
        let label = format!("{event} {} of {}", payment.id, payment.amount);
        let raw = signed(event, now / 1000, payload);
        self.hook("razorpay", now, about, label, raw);
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
        let raw = signed(event, now / 1000, payload);
        self.hook("razorpay", now, About::Other, event.to_owned(), raw);
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
        let Some(payment) = self.payments.iter().find(|p| p.id == refund.payment) else {
            return;
        };
        let payload = json!({
            "refund": {"entity": self.refund_json(&refund)}, "payment": {"entity": self.payment_json(payment)}
        });
        let about = About::Refund(refund.id.clone());
        let label = format!("{event} {} of {}", refund.id, refund.amount);
        let raw = signed(event, now / 1000, payload);
        self.hook("razorpay", now, about, label, raw);
    }

    fn razorpay(&mut self, now: i64, call: &HttpCall) -> HttpReply {
        let path = call.url.trim_start_matches("https://api.razorpay.com/v1/");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').collect();
        let by_id = |links: &[Link], id: &str| links.iter().position(|l| l.id == id);
        match (call.method, parts.as_slice()) {
            (Method::Post, ["payment_links"]) => self.create_link(now, &body(call)),
            (Method::Get, ["payment_links"]) => {
                let wanted = query.trim_start_matches("reference_id=");
                let found: Vec<Value> = (0..self.links.len())
                    .filter(|i| self.links[*i].reference == wanted)
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
            (Method::Get, ["orders", id, "payments"]) => {
                let items: Vec<Value> = self
                    .payments
                    .iter()
                    .filter(|p| self.links[p.link].order.as_deref() == Some(*id))
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

    fn create_link(&mut self, now: i64, wanted: &Value) -> HttpReply {
        let reference = wanted["reference_id"].as_str().unwrap_or_default();
        if self.links.iter().any(|l| l.reference == reference) {
            return refusal("payment link creation with reference ID already attempted");
        }
        let expire_by = wanted["expire_by"].as_i64().unwrap_or_default();
        if expire_by < now / 1000 + self.ahead + 900 {
            return refusal("timestamp must be atleast 15 minutes in future");
        }
        let id = self.name("plink");
        self.links.push(Link {
            id,
            reference: reference.to_owned(),
            amount: wanted["amount"].as_i64().unwrap_or_default(),
            status: "created",
            expire_by,
            notes: wanted["notes"].clone(),
            order: None,
        });
        reply(200, &self.link_json(self.links.len() - 1))
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
    fn take(&mut self, now: i64, tag: Tag, sms: bool, meta: bool) -> HttpReply {
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
                self.meta_report(&id, &tag, word, at)
            } else {
                self.exotel_report(&id, &tag, word, sms)
            };
            let source = if meta { "meta" } else { "exotel" };
            let label = format!("{word} {tag}");
            self.hook(source, at, About::Message(tag.clone(), word), label, raw);
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

    fn meta_report(&mut self, id: &str, tag: &Tag, word: &str, at: i64) -> RawWebhook {
        let mut status = json!({"id": id, "status": word, "timestamp": (at / 1000).to_string(), "recipient_id": "919876543210",
            "biz_opaque_callback_data": tag.to_string()});
        if word == "failed" {
            let code = *self.rng.pick(&[131_026, 131_047, 131_053, 131_000]);
            status["errors"] = json!([{"code": code, "title": "no"}]);
        }
        let body = json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp", "metadata": {"phone_number_id": "106540352242922"}, "statuses": [status]}}]}]})
        .to_string()
        .into_bytes();
        let signature = format!("sha256={}", hex(&hmac_sha256(b"test-app-secret", &body)));
        RawWebhook {
            headers: vec![("x-hub-signature-256".to_owned(), signature)],
            query: vec![],
            body,
        }
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
            message(
                state,
                sent["biz_opaque_callback_data"].as_str(),
                false,
                true,
            )
        }
        "exotel.send_whatsapp" => {
            let sent = body(call);
            message(state, sent["custom_data"].as_str(), false, false)
        }
        "exotel.send_sms" => {
            let sent = call
                .body
                .as_ref()
                .map(|(_, b)| String::from_utf8_lossy(b).replace("%3A", ":"));
            let sent = sent.unwrap_or_default();
            let tag = sent.split('&').find_map(|f| f.strip_prefix("CustomField="));
            message(state, tag, true, false)
        }
        _ => state.vendors.razorpay(now, call),
    }
}

fn message(state: &mut State, tag: Option<&str>, sms: bool, meta: bool) -> HttpReply {
    let Some((tag, _)) = tag.and_then(Tag::parse_named) else {
        state.wrong(|| format!("a message with the tag {tag:?}"));
        return broken_reply();
    };
    check_sending(state, &tag, sms);
    let now = state.now;
    state.vendors.take(now, tag, sms, meta)
}

/// Nothing is said twice, unless nobody could know that it was said, and then not before a report had its time.
fn check_sending(state: &mut State, tag: &Tag, sms: bool) {
    let key = state
        .items
        .keys()
        .find(|k| k.reference == tag.reference)
        .cloned();
    let Some(item) = key.and_then(|key: OrderKey| state.items.get(&key)) else {
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
    let mut wrong = None;
    for before in state
        .vendors
        .accepted
        .iter()
        .filter(|a| a.tag.reference == tag.reference && a.tag.message == tag.message)
    {
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
    let mut raw = signed("payment_link.paid", 1, payload);
    let signature = hex(&hmac_sha256(b"another-secret", &raw.body));
    raw.headers = vec![("x-razorpay-signature".to_owned(), signature)];
    raw
}

fn signed(event: &str, created_at: i64, payload: Value) -> RawWebhook {
    let body =
        json!({"entity": "event", "event": event, "created_at": created_at, "payload": payload});
    let body = body.to_string().into_bytes();
    let signature = hex(&hmac_sha256(b"test-webhook-secret", &body));
    RawWebhook {
        headers: vec![("x-razorpay-signature".to_owned(), signature)],
        query: vec![],
        body,
    }
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
