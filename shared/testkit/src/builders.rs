//! Valid by default; a test changes only what it is about.

use chatbill_domain::bill::Bill;
use chatbill_domain::event::{Event, Recorded};
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::order::{Contents, Draft, Order, Terms};
use chatbill_domain::payment::{
    AttemptStatus, Device, LookupRequest, PaymentMode, PaymentReport, PaymentRequest,
    RefundRequest, Speed,
};
use chatbill_domain::phone::Country;
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use chatbill_domain::money::Paise;

/// When tests happen: 22 November 2026, 05:30 in India.
pub const NOW: Millis = Millis::from_seconds(1_795_305_600);

/// The tenant's API key with all scopes.
pub const API_KEY: &str = "cb_acme_0123456789abcdef";

/// A tenant's document: WhatsApp through Meta, payment links of Razorpay.
#[must_use]
pub fn tenant_json() -> Value {
    json!({
        "tenant_id": "acme", "display_name": "Acme Stores",
        "api_keys": [{
            "id": "pos-1", "sha256": hex::encode(Sha256::digest(API_KEY)), "scopes": ["invoices", "refunds", "reports"]
        }],
        "receipt_secrets": ["0123456789abcdef", "fedcba9876543210"],
        "channel": {
            "kind": "whatsapp", "provider": "meta", "from": "+918045210677",
            "credentials": {
                "phone_number_id": "106540352242922", "waba_id": "102290129340398", "access_token": "test-access-token",
                "app_secrets": ["test-app-secret"], "verify_token": "test-verify-token"
            },
            "templates": {
                "invoice": {"name": "bill", "language": "en"},
                "status": {"name": "bill_status", "language": "en"}
            },
            "fallback_to_sms": false
        },
        "payment": {
            "mode": "payment_link", "gateway": "razorpay",
            "credentials": {"key_id": "rzp_test_1", "key_secret": "test-key-secret", "webhook_secrets": ["test-webhook-secret"]}
        },
        "on_captured": "completed", "late_payment": "hold"
    })
}

/// The tenant of [`tenant_json`].
#[must_use]
pub fn tenant() -> Tenant {
    tenant_with(|_| ())
}

/// A tenant whose document was changed before it was read.
#[must_use]
pub fn tenant_with(change: impl FnOnce(&mut Value)) -> Tenant {
    let mut document = tenant_json();
    change(&mut document);
    Tenant::read(&document.to_string(), true)
        .unwrap_or_else(|faults| panic!("the tenant document is invalid: {faults:?}"))
}

/// A bill as a POS posts it: two bags of rice for 850 rupees.
#[must_use]
pub fn bill_json() -> Value {
    json!({
        "reference_id": "BM345A-12",
        "customer": {"phone": "+919876543210", "name": "Pallavi"},
        "goods": "physical-goods",
        "items": [{
            "retailer_id": "SKU001", "name": "Basmati 5 kg", "quantity": 2,
            "amount": {"value": 45000, "offset": 100}, "sale_amount": {"value": 42000, "offset": 100}
        }],
        "tax": {"value": 1000, "offset": 100, "description": "GST 5%"},
        "total_amount": {"value": 85000, "offset": 100}, "currency": "INR",
        "expires_in": 1800
    })
}

/// The bill of [`bill_json`].
#[must_use]
pub fn bill() -> Bill {
    bill_with(|_| ())
}

/// A bill whose JSON was changed before it was read.
#[must_use]
pub fn bill_with(change: impl FnOnce(&mut Value)) -> Bill {
    let mut document = bill_json();
    change(&mut document);
    Bill::read(&document, Country::INDIA, || reference("generated-1"))
        .unwrap_or_else(|faults| panic!("the bill is invalid: {faults:?}"))
}

/// A reference.
#[must_use]
pub fn reference(text: &str) -> ReferenceId {
    ReferenceId::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A tenant's name.
#[must_use]
pub fn tenant_id(text: &str) -> TenantId {
    TenantId::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The order of `tenant` with this reference.
#[must_use]
pub fn key(tenant: &str, text: &str) -> OrderKey {
    OrderKey::new(tenant_id(tenant), reference(text))
}

/// What is stored when [`tenant`] takes this bill at [`NOW`].
#[must_use]
pub fn contents(bill: Bill) -> Contents {
    let tenant = tenant();
    Contents {
        terms: Terms {
            mode: tenant.payment.mode,
            gateway: tenant.payment.account.vendor.clone(),
            account: tenant.payment.account.mark(),
            channel: tenant.channel.kind.as_str().to_owned(),
            provider: tenant.channel.account.vendor.clone(),
            on_captured: tenant.on_captured,
            late_payment: tenant.late_payment,
            receipt_message: false,
            failed_message: false,
            receipt_url: "https://shop.example/r/1.acme.BM345A-12.token".to_owned(),
        },
        hash: bill.hash(),
        created_at: NOW,
        expires_at: NOW.plus_seconds(bill.expires_in),
        bill,
    }
}

/// An order about to be created by [`tenant`] at [`NOW`], due a minute later.
#[must_use]
pub fn draft(bill: Bill) -> Draft {
    Draft {
        key: OrderKey::new(tenant().id, bill.reference.clone()),
        contents: contents(bill),
        created: Recorded::new(NOW, "pos:pos-1", Event::Created),
        due: NOW.plus_seconds(60),
    }
}

/// The order of [`bill`], just created.
#[must_use]
pub fn order() -> Order {
    order_after(Vec::new())
}

/// The order of [`bill`] after these events, one second apart, brought by `test`.
#[must_use]
pub fn order_after(events: Vec<Event>) -> Order {
    let draft = draft(bill());
    let later = events
        .into_iter()
        .zip(1..)
        .map(|(event, seconds)| Recorded::new(NOW.plus_seconds(seconds), "test", event));
    let events = std::iter::once(draft.created.clone())
        .chain(later)
        .collect();
    Order::new(draft.key, draft.contents, events, Some(draft.due), 0)
}

/// A report in rupees about an attempt to pay, made at [`NOW`].
#[must_use]
pub fn report(status: AttemptStatus, payment_id: &str, paise: i64) -> PaymentReport {
    PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status,
        payment_id: payment_id.to_owned(),
        amount: Paise::new(paise).unwrap_or_else(|error| panic!("{paise} paise: {error}")),
        currency: "INR".to_owned(),
        method: Some("upi".to_owned()),
        error: None,
        at: Some(NOW),
    }
}

/// The report that pays this bill in full.
#[must_use]
pub fn captured(bill: &Bill, payment_id: &str) -> PaymentReport {
    report(AttemptStatus::Captured, payment_id, bill.total.get())
}

/// What a gateway is asked to collect for [`bill`] at [`NOW`]; its own name for the order is the reference.
#[must_use]
pub fn payment_request(mode: PaymentMode) -> PaymentRequest {
    let bill = bill();
    PaymentRequest {
        reference: bill.reference.clone(),
        amount: bill.total,
        expires_at: NOW.plus_seconds(bill.expires_in),
        description: format!("Acme Stores bill {}", bill.reference),
        notes: vec![("counter".to_owned(), "3".to_owned())],
        return_url: "https://shop.example/r/token".to_owned(),
        maybe_exists: false,
        mode,
        order_id: bill.reference.to_string(),
        bill,
        shop: "Acme Stores".to_owned(),
        now: NOW,
        pay_url: "https://shop.example/r/token/pay".to_owned(),
        webhook_url: "https://shop.example/webhooks/gateway/acme".to_owned(),
        device: Some(Device {
            ip: "203.0.113.7".to_owned(),
            user_agent: "Till/1.0".to_owned(),
        }),
    }
}

/// What a lookup of [`payment_request`] needs, two minutes later.
#[must_use]
pub fn lookup_request(mode: PaymentMode, gateway_id: Option<&str>) -> LookupRequest {
    let bill = bill();
    LookupRequest {
        reference: bill.reference.clone(),
        gateway_id: gateway_id.map(str::to_owned),
        order_id: bill.reference.to_string(),
        mode,
        amount: bill.total,
        created_at: NOW,
        now: NOW.plus_seconds(120),
    }
}

/// A refund of 100 rupees of [`bill`], paid an hour ago.
#[must_use]
pub fn refund_request(mode: PaymentMode, payment_id: &str) -> RefundRequest {
    let bill = bill();
    RefundRequest {
        reference: bill.reference.clone(),
        order_id: bill.reference.to_string(),
        gateway_id: None,
        mode,
        payment_id: payment_id.to_owned(),
        captured: bill.total,
        captured_at: NOW,
        refund_id: "refund-1".to_owned(),
        token: "k7m2p9q4r6s8t3v5w2x7".to_owned(),
        amount: Paise::new(10_000).unwrap_or_else(|error| panic!("{error}")),
        before: Paise::ZERO,
        others: Vec::new(),
        unnamed: Vec::new(),
        ahead: 0,
        first: false,
        same_amount_at: None,
        speed: Speed::Normal,
        reason: Some("One bag was torn".to_owned()),
        now: NOW.plus_seconds(3600),
        gateway_refund_id: None,
        not_now: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chatbill_domain::order::PaymentStatus;

    #[test]
    fn what_is_valid_by_default_is_valid() {
        assert!(tenant().api_key(API_KEY).is_some());
        assert_eq!(bill().total.get(), 85_000);
        assert_eq!(order().payment_status(), PaymentStatus::Pending);
        let paid = order_after(vec![Event::Payment(captured(&bill(), "pay_1"))]);
        assert_eq!(paid.payment_status(), PaymentStatus::Captured);
        assert_eq!(NOW.india(), "22 Nov 2026, 05:30");
    }
}
