//! What nobody reported: lost webhooks, orders whose time is over.
//!
//! `reconcile` asks about orders that are at least five minutes old. Such an order is made here by moving the times in its
//! item back ([`Shop::age`]); the functions' clocks are the machine's. Then the function is invoked as its schedule would.

use sandbox::Sandbox;
use serde_json::json;

use super::shop::{Shop, held, message, stack};

#[test]
fn a_payment_whose_webhooks_were_lost_is_found() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    let lost = json!({"vendor": "razorpay", "kind": "drop_webhook", "times": null});
    shop.fault(&reference, lost);
    shop.pay(&reference);
    stack().reconcile();
    assert_eq!(
        shop.order(&reference)["payment_status"],
        "pending",
        "too early to ask"
    );
    shop.age(&reference, 6);
    let summary = stack().reconcile();
    assert!(summary["checked"].as_i64().unwrap() >= 1, "{summary}");
    let order = shop.until_confirmed(&reference);
    assert_eq!(order["fulfilment_status"], "completed");
    assert_eq!(shop.inbox(&shop.phone).len(), 2);
}

#[test]
fn a_native_payment_whose_webhooks_were_lost_is_found() {
    let shop = Shop::with(|plan| plan.native());
    let reference = shop.sell_and_deliver();
    let lost =
        json!({"vendor": "meta", "operation": "payment", "kind": "drop_webhook", "times": null});
    shop.fault(&reference, lost);
    let tap = json!({"vendor": "meta", "reference_id": reference, "method": "upi"});
    shop.control("customer/pay", &tap);
    shop.age(&reference, 6);
    stack().reconcile();
    shop.until_confirmed(&reference);
    assert_eq!(shop.inbox(&shop.phone).len(), 2);
}

#[test]
fn an_order_whose_time_is_over_expires_and_money_that_comes_then_is_held() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    shop.age(&reference, 45);
    stack().reconcile();
    let order = shop.order(&reference);
    assert_eq!(order["payment_status"], "expired", "{order:#}");
    shop.until_next_second();
    shop.customer("pay", &reference, json!({"late": true}));
    let order = shop.until(&reference, "the late money to be held", |order| {
        !held(order).is_empty()
    });
    assert_eq!(held(&order), ["late_payment"]);
    assert_eq!(order["payment_status"], "expired");
    assert_eq!(message(&order, "paid"), &json!(null));
}

#[test]
fn an_order_paid_in_its_last_second_does_not_expire() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    let lost = json!({"vendor": "razorpay", "kind": "drop_webhook", "times": null});
    shop.fault(&reference, lost);
    shop.pay(&reference);
    shop.age(&reference, 45);
    stack().reconcile();
    let order = shop.until_confirmed(&reference);
    assert_eq!(held(&order), [""; 0], "{order:#}");
}

/// The gateway tells that a link has expired. Its clock is moved, so it is a gateway of this test's own.
#[test]
fn the_gateway_s_word_that_a_link_has_expired_counts() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let vendors = runtime.block_on(Sandbox::start()).unwrap();
    let shop = Shop::at(&vendors.url(), |_| ());
    let reference = shop.sell_and_deliver();
    shop.control("clock", &json!({"advance_seconds": 3600}));
    let order = shop.until(&reference, "the order to expire", |order| {
        order["payment_status"] == "expired"
    });
    assert_eq!(order["fulfilment_status"], "pending", "{order:#}");
    let path = format!("/invoices/{reference}/resend");
    shop.call("POST", &path, Some(&json!({}))).problem(409);
}

#[test]
fn a_message_that_a_crash_kept_from_the_queue_is_queued_again() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    // The gateway is down while the till posts, and the till never comes back.
    let down = json!({"vendor": "razorpay", "operation": "create_payment_link", "kind": "status", "status": 503, "times": 2});
    shop.fault(reference, down);
    shop.post(&bill).problem(503);
    for _ in 0..3 {
        shop.age(reference, 2);
        stack().reconcile();
        if shop.order(reference)["payment"].get("link").is_some() {
            break;
        }
    }
    shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
}
