//! WhatsApp fails, and the customer gets an SMS; never both.

use serde_json::{Value, json};

use super::shop::{count, message};
use super::ways::{BOTH, Outlet, Way, assert_short, each};

/// A shop that may turn to SMS.
fn open(way: Way) -> Outlet {
    way.open(|plan| plan.document["channel"]["fallback_to_sms"] = json!(true))
}

fn delivered(order: &Value) -> bool {
    order["delivery"]["status"] == "delivered"
}

/// Sells a bill that must reach the customer by SMS because WhatsApp said `why`; then the customer pays it.
fn sell_by_sms(outlet: &Outlet, event: &str, why: &str) {
    let (reference, order) = outlet.sell_until("the bill to be delivered", delivered);
    let bill = message(&order, "invoice.1");
    assert_eq!(bill["form"], "sms", "{order:#}");
    assert_eq!(bill["attempts"], 2, "{order:#}");
    let told = count(&order, event, |entry| entry["code"] == why);
    assert_eq!(told, 1, "the timeline says why: {order:#}");
    assert_eq!(outlet.inbox(&outlet.phone), ["sms"]);
    assert_short(&outlet.link());
    assert!(outlet.page().text().contains("850.00"));
    outlet.pay(&reference);
    let order = outlet.until_confirmed(&reference);
    assert_eq!(message(&order, "paid")["form"], "sms");
    assert_eq!(outlet.inbox(&outlet.phone), ["sms", "sms"]);
    assert!(outlet.page().text().contains("Paid"));
    assert_eq!(outlet.asked().len(), 1, "WhatsApp is not tried again");
    assert_eq!(outlet.asked_for(outlet.way.sms()).len(), 2);
    // What WhatsApp reported comes once more, as webhooks do.
    for report in outlet.reports("status.failed") {
        let again = format!("webhooks/{}/redeliver", report["id"]);
        assert_eq!(outlet.control(&again, &json!({}))["status"], 200);
    }
    assert_eq!(
        outlet.order(&reference),
        order,
        "nothing new, so nothing more is sent"
    );
}

#[test]
fn a_customer_who_left_whatsapp_gets_bill_and_confirmation_by_sms() {
    each(&BOTH, |way| {
        let outlet = open(way);
        outlet.says("Hello");
        let gone = json!({"phone": outlet.phone, "whatsapp": false});
        outlet.control("customer/phone", &gone);
        let why = if way == Way::ExotelWhatsApp {
            "EX_INCAPABLE_RECIPIENT"
        } else {
            "131026"
        };
        sell_by_sms(&outlet, "delivery_failed", why);
    });
}

#[test]
fn a_customer_who_never_wrote_gets_bill_and_confirmation_by_sms() {
    each(&BOTH, |way| {
        let why = if way == Way::ExotelWhatsApp {
            "EX_REENGAGEMENT_ERROR"
        } else {
            "131047"
        };
        sell_by_sms(&open(way), "delivery_failed", why);
    });
}

#[test]
fn what_whatsapp_refuses_at_once_goes_by_sms() {
    each(&BOTH, |way| {
        let outlet = open(way);
        let (code, why) = if way == Way::ExotelWhatsApp {
            (30_012, "http_400")
        } else {
            (413, "E413")
        };
        outlet.trouble(json!({"kind": "status", "status": 400, "code": code}));
        sell_by_sms(&outlet, "send_failed", why);
    });
}

#[test]
fn what_may_have_arrived_is_not_followed_by_sms() {
    each(&BOTH, |way| {
        let outlet = open(way);
        outlet.says("Hello");
        outlet.trouble(json!({"kind": "timeout_after", "delay_ms": 500}));
        let (reference, order) = outlet.sell_until("the report to settle it", delivered);
        assert_ne!(message(&order, "invoice.1")["form"], "sms");
        outlet.pay(&reference);
        outlet.until_confirmed(&reference);
        assert_eq!(outlet.inbox(&outlet.phone), way.chain());
        assert_eq!(outlet.asked_for(way.sms()).len(), 0);
    });
}

#[test]
fn an_sms_that_fails_as_well_is_the_end() {
    each(&BOTH, |way| {
        let outlet = open(way);
        let off = if way == Way::ExotelWhatsApp {
            json!({"kind": "async_error", "code": 23_010})
        } else {
            json!({"kind": "async_error", "body": {"status": "NOT-SENT", "trace": "INVALID-SUB"}})
        };
        outlet.trouble_with(way.sms(), off);
        let (_, order) = outlet.sell_until("the bill to be given up", |order| {
            order["delivery"]["status"] == "failed"
        });
        assert_eq!(count(&order, "delivery_failed", |_| true), 2, "{order:#}");
        assert_eq!(outlet.messages().len(), 0);
        assert_eq!(outlet.asked().len(), 1);
        assert_eq!(outlet.asked_for(way.sms()).len(), 1);
    });
}
