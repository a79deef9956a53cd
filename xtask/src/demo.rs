//! The verb `demo`: a bill from the till to the receipt, once for each way to pay, with every hop as it happens.
//!
//! It is a client: it knows the API, the customer's phone and the receipt page, and nothing of the functions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{Context as _, Failure, Result};
use crate::local::Local;
use crate::options::Options;
use crate::pos::Http;
use crate::procs::Procs;
use crate::report;
use crate::tenants::{self, Mode, Tenant};

/// The first call of each function starts its process, and a first message may wait for a second try.
const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(200);

const CUSTOMER: &str = "919876543210";

pub(crate) fn run(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    let start = Instant::now();
    report::title("Chatbill demo: the whole stack on this machine");
    let local = Local::start(procs, options, Some("demo"))?;
    for tenant in &local.tenants {
        if let Err(failure) = Story::new(&local, tenant)?.tell() {
            // A part of the stack that broke explains more than what it broke.
            local.check()?;
            let logs = local.collect_logs()?;
            return Err(Failure::new(format!(
                "{failure}\nThe functions' logs are in {}",
                logs.display()
            )));
        }
    }
    report::title(&format!(
        "Both bills were paid and confirmed. Done in {}.",
        report::seconds(start.elapsed())
    ));
    Ok(())
}

/// One bill.
struct Story<'a> {
    local: &'a Local,
    tenant: &'a Tenant,
    http: Http,
    reference: String,
    start: Instant,
    shown: BTreeSet<String>,
}

impl<'a> Story<'a> {
    fn new(local: &'a Local, tenant: &'a Tenant) -> Result<Self> {
        let number = tenants::random()?;
        Ok(Self {
            local,
            tenant,
            http: Http::new(Duration::from_secs(35)),
            reference: format!(
                "DEMO-{}",
                number.get(..8).unwrap_or_default().to_uppercase()
            ),
            start: Instant::now(),
            shown: BTreeSet::new(),
        })
    }

    fn tell(&mut self) -> Result<()> {
        let how = match self.tenant.mode {
            Mode::PaymentLink => "a payment link",
            Mode::PaymentGateway => "checkout inside WhatsApp",
        };
        report::title(&format!(
            "{} sells rice; the customer pays by {how}",
            self.tenant.display_name
        ));
        self.unknown_key()?;
        let receipt_url = self.bill()?;
        self.until(
            "the bill to arrive on the customer's phone",
            Self::bill_arrived,
        )?;
        self.pay()?;
        self.until("the order to be captured", |_, order| {
            Ok(text(order, "/payment_status") == "captured")
        })?;
        self.until(
            "the confirmation to arrive on the customer's phone",
            Self::confirmed,
        )?;
        self.receipt(&receipt_url)?;
        self.hop(
            "done",
            &format!(
                "{} is captured and {}",
                self.reference,
                text(&self.order()?, "/fulfilment_status")
            ),
        );
        self.give_back()
    }

    /// One bag was torn: the shop gives a part of the money back, and a till that asks twice gives it once.
    fn give_back(&mut self) -> Result<()> {
        let url = format!(
            "{}/invoices/{}/refunds",
            self.local.deployment.api_url, self.reference
        );
        let ask = json!({
            "refund_id": "torn-bag", "amount": {"value": 10_000, "offset": 100}, "reason": "One bag was torn",
        });
        let mut first = Value::Null;
        for turn in ["asked", "asked again"] {
            let reply = self.http.post(&url, &self.key(), &ask)?;
            let refund = reply.json("POST /invoices/{reference_id}/refunds", &[200, 201, 202])?;
            self.hop(
                "POS",
                &format!(
                    "refund of Rs 100.00 {turn}: {}, {}",
                    reply.status,
                    text(&refund, "/status")
                ),
            );
            let id = refund.get("gateway_refund_id").cloned().unwrap_or_default();
            if !first.is_null() && first != id {
                return Err(Failure::new(format!("two refunds: {first} and {id}")));
            }
            first = id;
        }
        self.until("the money to go back", |_, order| {
            Ok(text(order, "/payment_status") == "partially_refunded")
        })?;
        self.until(
            "the news of it to arrive on the customer's phone",
            |_, order| {
                let told = order.pointer("/messages").and_then(Value::as_array);
                Ok(told.into_iter().flatten().any(|message| {
                    text(message, "/message") == "refund.1"
                        && matches!(text(message, "/status").as_str(), "delivered" | "read")
                }))
            },
        )?;
        self.hop("done", "Rs 100.00 went back, and the customer was told");
        Ok(())
    }

    /// Nobody without a key of the usage plan gets in.
    fn unknown_key(&self) -> Result<()> {
        let url = format!("{}/invoices", self.local.deployment.api_url);
        let reply = self.http.post(
            &url,
            &[("x-api-key", "cb_demo-link_00000000000000000000")],
            &json!({}),
        )?;
        if reply.status != 401 {
            return Err(Failure::new(format!(
                "a POS with a wrong key was answered {}: {}",
                reply.status, reply.body
            )));
        }
        self.hop("POS", "a wrong API key is refused (401)");
        Ok(())
    }

    /// Posts the bill and gives the receipt's URL.
    fn bill(&self) -> Result<String> {
        let url = format!("{}/invoices", self.local.deployment.api_url);
        let reply = self
            .http
            .post(&url, &self.key(), &invoice(&self.reference))?;
        let order = reply.json("POST /invoices", &[201])?;
        self.hop(
            "POS",
            &format!("POST /invoices: {} over {}", self.reference, rupees(&order)),
        );
        let receipt_url = text(&order, "/receipt_url");
        self.hop(
            "POS",
            &format!(
                "201: {}, receipt {receipt_url}",
                text(&order, "/payment_status")
            ),
        );
        if let Some(link) = order.pointer("/payment/link").and_then(Value::as_str) {
            self.hop("POS", &format!("payment link {link}"));
        }
        if let Some(url) = order.get("qr_url").and_then(Value::as_str) {
            // What an <img> on a phone asks for; the answer must be the picture's bytes.
            let image = self
                .http
                .get(url, &[("accept", "image/avif,image/webp,*/*")])?;
            if image.status != 200 || !image.body.contains("PNG\r\n") {
                return Err(Failure::new(format!(
                    "the QR code is no picture ({}): {}",
                    image.status, image.body
                )));
            }
            self.hop("POS", "the QR code for the till's display is a picture");
        }
        if receipt_url.is_empty() {
            Err(Failure::new("the answer has no receipt_url"))
        } else {
            Ok(receipt_url)
        }
    }

    fn bill_arrived(&mut self, _order: &Value) -> Result<bool> {
        Ok(!self.inbox()?.is_empty())
    }

    fn pay(&self) -> Result<()> {
        let paid = self.local.sandbox.control(
            "customer/pay",
            &json!({"reference_id": self.reference, "method": "upi"}),
        )?;
        let at = match text(&paid, "/vendor").as_str() {
            "meta" => "inside WhatsApp".to_owned(),
            _ => format!("on the gateway's page: {}", text(&paid, "/payment_id")),
        };
        self.hop("customer", &format!("pays with UPI {at}"));
        Ok(())
    }

    /// The bill and at least one message about its payment are on the phone, and the order knows that they went out.
    fn confirmed(&mut self, order: &Value) -> Result<bool> {
        let went_out = |message: &Value| {
            matches!(
                text(message, "/status").as_str(),
                "sent" | "delivered" | "read"
            )
        };
        let messages = order
            .get("messages")
            .and_then(Value::as_array)
            .doing("the order has no messages")?;
        let is_paid = |message: &&Value| text(message, "/message") == "paid";
        Ok(messages
            .iter()
            .any(|message| is_paid(&message) && went_out(message))
            && self.inbox()?.len() > 1)
    }

    fn receipt(&self, url: &str) -> Result<()> {
        let page = self.http.get(url, &[("accept", "text/html")])?;
        let shows =
            page.status == 200 && page.body.contains(&self.reference) && page.body.contains("Paid");
        if !shows {
            return Err(Failure::new(format!(
                "the receipt page does not show the payment ({}): {}",
                page.status, page.body
            )));
        }
        self.hop("customer", "opens the receipt: it shows the bill as paid");
        Ok(())
    }

    /// Reads the order, shows what is new in its timeline, until `done` says so.
    fn until(
        &mut self,
        what: &str,
        done: impl Fn(&mut Self, &Value) -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let order = self.order()?;
            self.show_new(&order);
            if done(self, &order)? {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let order = serde_json::to_string_pretty(&order).unwrap_or_default();
                return Err(Failure::new(format!(
                    "waited {} for {what}; the order is\n{order}",
                    report::seconds(PATIENCE)
                )));
            }
            self.local.check()?;
            thread::sleep(PACE);
        }
    }

    fn order(&self) -> Result<Value> {
        let url = format!(
            "{}/invoices/{}",
            self.local.deployment.api_url, self.reference
        );
        self.http
            .get(&url, &self.key())?
            .json("GET /invoices/{reference_id}", &[200])
    }

    /// What is on the customer's phone about this order.
    fn inbox(&mut self) -> Result<Vec<Value>> {
        let inbox = self
            .local
            .sandbox
            .seen(&format!("customer/inbox?phone={CUSTOMER}"))?;
        let messages = inbox
            .get("messages")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let mine: Vec<Value> = messages
            .into_iter()
            .filter(|message| text(message, "/reference_id") == self.reference)
            .collect();
        for message in &mine {
            if self.shown.insert(format!("inbox {}", text(message, "/id"))) {
                self.hop("customer", &format!("WhatsApp: {}", text(message, "/kind")));
            }
        }
        Ok(mine)
    }

    fn show_new(&mut self, order: &Value) {
        let timeline = order
            .get("timeline")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for (number, entry) in timeline.iter().enumerate() {
            if self.shown.insert(format!("timeline {number}")) {
                self.hop("Chatbill", &sentence(entry));
            }
        }
    }

    fn key(&self) -> [(&str, &str); 1] {
        [("x-api-key", &self.tenant.api_key)]
    }

    fn hop(&self, who: &str, what: &str) {
        let time = self.start.elapsed();
        println!("  {:>7.2} s  {who:<9} {what}", time.as_secs_f64());
    }
}

/// A timeline entry: its event, who brought it, and its details.
fn sentence(entry: &Value) -> String {
    let details = entry
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| {
            !value.is_null()
                && !matches!(name.as_str(), "event" | "at" | "by" | "amount" | "currency")
        });
    let details: Vec<String> = details
        .map(|(name, value)| {
            format!(
                "{name} {}",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            )
        })
        .collect();
    let by = entry
        .get("by")
        .map(|by| by.as_str().map_or_else(|| by.to_string(), str::to_owned))
        .unwrap_or_default();
    format!("{} by {by}: {}", text(entry, "/event"), details.join(", "))
}

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// `Rs 850.00`.
fn rupees(order: &Value) -> String {
    let paise = order
        .pointer("/total_amount/value")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let (rupees, rest) = (
        paise.checked_div(100).unwrap_or(0),
        paise.checked_rem(100).unwrap_or(0),
    );
    format!("Rs {rupees}.{rest:02}")
}

fn invoice(reference: &str) -> Value {
    let amount = |value: u32| json!({"value": value, "offset": 100});
    json!({
        "reference_id": reference,
        "customer": {"phone": format!("+{CUSTOMER}"), "name": "Pallavi"},
        "goods": "physical-goods",
        "items": [{
            "retailer_id": "RICE-5", "name": "Basmati 5 kg", "quantity": 2,
            "amount": amount(45_000), "sale_amount": amount(42_000),
            "country_of_origin": "India", "importer_name": "Demo Traders",
            "importer_address": {
                "address_line1": "12 Chandni Chowk", "city": "Delhi", "zone_code": "DL", "postal_code": "110006", "country_code": "IN",
            },
        }],
        "tax": {"value": 1_000, "offset": 100, "description": "GST"},
        "total_amount": amount(85_000), "currency": "INR", "expires_in": 1800,
        "notes": {"till": "1"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_entry_reads_as_one_line() {
        let entry = json!({"event": "sent", "by": "meta", "at": "…", "message": "paid", "attempt": 1, "error": null});
        assert_eq!(sentence(&entry), "sent by meta: attempt 1, message paid");
    }

    #[test]
    fn rupees_have_two_decimals() {
        assert_eq!(
            rupees(&json!({"total_amount": {"value": 85_005}})),
            "Rs 850.05"
        );
    }
}
