//! What tests of several providers need.

use std::path::PathBuf;

use chatbill_domain::bill::Bill;
use chatbill_domain::contact::Msisdn;
use chatbill_domain::http::{Answer, HttpCall, HttpReply};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::message::{Content, Form, MessageKey, Outgoing, Tag, Template};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{PaymentMode, RefundRequest, Speed};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::RawWebhook;
use serde_json::{Value, json};

/// What the registry test wants to know of each provider.
pub(crate) struct Probe {
    pub(crate) tenant: Tenant,
    /// A webhook as the vendor would send it.
    pub(crate) webhook: RawWebhook,
    /// The same after somebody changed what proves it: the body under a signature, or the secret it came with.
    pub(crate) tampered: RawWebhook,
    /// Calls that must have a snapshot.
    pub(crate) calls: &'static [&'static str],
}

pub(crate) fn tenant(channel: &Value, payment: &Value) -> Tenant {
    let document = json!({
        "tenant_id": "acme", "display_name": "Acme Stores",
        "api_keys": [{"id": "pos-1", "sha256": "0".repeat(64), "scopes": ["invoices"]}],
        "receipt_secrets": ["0123456789abcdef"],
        "channel": channel,
        "payment": payment,
        "consent_words": {"stop": ["no bills"], "start": ["bills again"]},
    });
    Tenant::read(&document.to_string(), false).unwrap_or_else(|faults| panic!("{faults:?}"))
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
    let mut out = json!({
        "label": call.label,
        "method": call.method.as_str(),
        "url": call.url,
        "authorization": call.authorization.as_ref().map(|_| "[redacted]"),
        "headers": call.headers,
        "body": body,
    });
    if let Some((name, _)) = &call.secret_header {
        out["secret_header"] = json!({*name: "[redacted]"});
    }
    out
}

pub(crate) fn reply(status: u16, body: &Value) -> Answer {
    Answer::Reply(HttpReply {
        status,
        retry_after: None,
        body: body.to_string().into_bytes(),
    })
}

/// A bill with everything on it.
pub(crate) fn full_bill() -> Value {
    json!({
        "reference_id": "BM345A-12",
        "customer": {"phone": "+919876543210", "name": "Pallavi"},
        "goods": "physical-goods",
        "items": [
            {"name": "Basmati 5 kg", "quantity": 2,
             "amount": {"value": 45000, "offset": 100}, "sale_amount": {"value": 42000, "offset": 100},
             "country_of_origin": "India", "importer_name": "Acme Imports",
             "importer_address": {"address_line1": "B8/733 nand nagri", "address_line2": "police station", "city": "East Delhi",
                                  "zone_code": "DL", "postal_code": "110093", "country_code": "IN"},
             "image": {"link": "https://shop.example/rice.png"}},
        ],
        "tax": {"value": 1000, "offset": 100, "description": "GST 5%"},
        "shipping": {"value": 500, "offset": 100, "description": "by bicycle"},
        "discount": {"value": 1500, "offset": 100, "description": "first order", "discount_program_name": "Welcome"},
        "total_amount": {"value": 84000, "offset": 100},
        "beneficiaries": [{"name": "Pallavi", "address_line1": "1 Main Road", "city": "Pune", "state": "Maharashtra",
                           "country": "India", "postal_code": "411001"}],
        "header": {"type": "image", "image": {"link": "https://shop.example/header.png"}},
        "body": "Thank you for shopping with us.", "footer": "Acme Stores", "quick_pay": true,
        "notes": {"counter": "3"}, "receipt": "R-77",
        "udf1": "one", "udf4": "four", "extra1": "x", "additional_info7": "seven",
    })
}

/// The least a bill can be.
pub(crate) fn small_bill() -> Value {
    json!({
        "reference_id": "BM345A-12",
        "customer": {"phone": "+919876543210"},
        "goods": "digital-goods",
        "items": [{"retailer_id": "SKU1", "name": "Tea", "quantity": 1, "amount": {"value": 1000, "offset": 100}}],
    })
}

pub(crate) fn bill(document: &Value) -> Bill {
    Bill::read(document, chatbill_domain::phone::Country::INDIA, || {
        ReferenceId::parse("unnamed").unwrap()
    })
    .unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Owns what an [`Outgoing`] borrows.
pub(crate) struct Letter {
    pub(crate) to: Msisdn,
    pub(crate) reference: ReferenceId,
    pub(crate) tag: Tag,
    pub(crate) bill: Bill,
    pub(crate) seconds_left: i64,
}

impl Letter {
    pub(crate) fn new(bill: Bill) -> Self {
        Self {
            to: bill.customer.phone.clone(),
            reference: bill.reference.clone(),
            tag: Tag {
                reference: bill.reference.clone(),
                message: MessageKey::Invoice(1),
                attempt: 1,
            },
            bill,
            seconds_left: 1800,
        }
    }

    pub(crate) fn outgoing<'a>(
        &'a self,
        content: Content<'a>,
        template: Option<&'a Template>,
    ) -> Outgoing<'a> {
        let expires_at = Millis::from_seconds(1_798_761_600);
        Outgoing {
            to: &self.to,
            reference: &self.reference,
            tag: &self.tag,
            bill: &self.bill,
            now: expires_at.plus_seconds(self.seconds_left.saturating_neg()),
            expires_at,
            mode: PaymentMode::PaymentLink,
            shop: "Acme Stores",
            receipt_url: "https://shop.example/r/token",
            callback_base: "https://shop.example",
            payment_id: None,
            received: None,
            content,
            form: if template.is_some() {
                Form::Template
            } else {
                Form::Interactive
            },
            template,
            qr: None,
            bare: false,
        }
    }
}

/// A refund of half a payment made inside WhatsApp.
pub(crate) fn refund() -> RefundRequest {
    let reference = ReferenceId::parse("Hiabqidaq_1abcdeabyzqabq").unwrap();
    let captured_at = Millis::from_seconds(1_708_424_916);
    RefundRequest {
        order_id: reference.to_string(),
        reference,
        gateway_id: None,
        mode: PaymentMode::PaymentGateway,
        payment_id: "order_Nd6JAsbEscE2gY".to_owned(),
        captured: Paise::new(200).unwrap(),
        captured_at,
        refund_id: "r-1".to_owned(),
        token: "abcdefghij0123456789".to_owned(),
        amount: Paise::new(100).unwrap(),
        before: Paise::ZERO,
        others: Vec::new(),
        unnamed: Vec::new(),
        ahead: 0,
        first: false,
        same_amount_at: None,
        speed: Speed::Instant,
        reason: None,
        now: captured_at.plus_seconds(3600),
        gateway_refund_id: None,
        not_now: None,
    }
}
