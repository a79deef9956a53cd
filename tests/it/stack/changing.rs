//! What a shop does with an order it posted: wait for it, move it on, cancel it, send its bill again.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::shop::{Shop, held, message, phone};

#[test]
fn waiting_ends_when_the_order_changes() {
    let shop = Shop::with(|plan| plan.native());
    let reference = shop.sell_and_deliver();
    let start = Instant::now();
    let order = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let path = format!("/invoices/{reference}?wait=25");
            shop.call("GET", &path, None).json(200)
        });
        thread::sleep(Duration::from_secs(1));
        shop.set_status(&reference, "processing").json(200);
        waiting.join().unwrap()
    });
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(order["fulfilment_status"], "processing");
    for wait in ["0", "26", "soon", "-1"] {
        let path = format!("/invoices/{reference}?wait={wait}");
        let problem = shop.call("GET", &path, None).problem(400);
        assert_eq!(problem["code"], "invalid_wait", "{wait}");
    }
}

#[test]
fn a_shop_moves_its_order_on_and_the_customer_is_told_each_time() {
    let shop = Shop::with(|plan| plan.document["on_captured"] = json!("processing"));
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    shop.until_confirmed(&reference);
    for (number, status) in [(1, "shipped"), (2, "completed")] {
        let order = shop.set_status(&reference, status).json(200);
        assert_eq!(order["fulfilment_status"], status);
        // The same again changes nothing.
        shop.set_status(&reference, status).json(200);
        let key = format!("status.{number}");
        shop.until(&reference, "the customer to be told", |order| {
            message(order, &key)["status"] == "delivered"
        });
    }
    assert_eq!(shop.inbox(&shop.phone).len(), 4);
    let problem = shop.set_status(&reference, "processing").problem(409);
    assert_eq!(problem["code"], "illegal_transition");
    let problem = shop.set_status(&reference, "canceled").problem(409);
    assert_eq!(problem["code"], "illegal_transition");
}

#[test]
fn canceling_closes_the_link_tells_the_customer_and_holds_money_that_comes_after_all() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    let order = shop.set_status(&reference, "canceled").json(200);
    assert_eq!(order["fulfilment_status"], "canceled");
    assert_eq!(order["payment_status"], "canceled");
    shop.until(&reference, "the customer to be told", |order| {
        message(order, "status.1")["status"] == "delivered"
    });
    // The link is dead at the gateway; only a payment that was under way can still arrive.
    shop.until_next_second();
    let paid_late = shop.customer("pay", &reference, json!({"late": true}));
    assert!(paid_late["payment_id"].is_string(), "{paid_late}");
    let order = shop.until(&reference, "the late money to be held", |order| {
        !held(order).is_empty()
    });
    assert_eq!(held(&order), ["late_payment"]);
    assert_eq!(order["payment_status"], "canceled");
    assert_eq!(
        message(&order, "paid"),
        &json!(null),
        "nobody says it is paid"
    );
    assert_eq!(shop.received("cancel_payment_link", &reference).len(), 1);
}

#[test]
fn a_bill_sent_again_to_the_right_phone_has_its_own_reference_and_pays_the_same_order() {
    let shop = Shop::with(|plan| plan.native());
    let reference = shop.sell_and_deliver();
    let right = phone();
    let path = format!("/invoices/{reference}/resend");
    let body = json!({"phone": format!("+{right}")});
    shop.call("POST", &path, Some(&body)).json(200);
    let order = shop.until(&reference, "the bill to be delivered again", |order| {
        message(order, "invoice.2")["status"] == "delivered"
    });
    let again = format!("{reference}-2");
    assert_eq!(shop.received("send_message", &again).len(), 1, "{order:#}");
    assert_eq!(shop.inbox(&right).len(), 1);
    assert_eq!(
        shop.inbox(&shop.phone).len(),
        1,
        "nothing more to the wrong one"
    );
    let tap = json!({"vendor": "meta", "reference_id": again, "method": "upi"});
    shop.control("customer/pay", &tap);
    shop.until_confirmed(&reference);
    assert_eq!(
        shop.inbox(&right).len(),
        2,
        "the news goes to the right phone"
    );
    let problem = shop.call("POST", &path, Some(&json!({}))).problem(409);
    assert_eq!(problem["code"], "illegal_transition");
}
