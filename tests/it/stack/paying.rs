//! From the till to the confirmation, for each way to pay, and what must not count as paid.

use serde_json::json;

use super::shop::{Shop, count, eventually, held, message, stack};

#[test]
fn a_bill_is_paid_by_link_and_the_customer_is_told() {
    let shop = Shop::open();
    let (reference, answer) = shop.sell();
    assert_eq!(answer["payment_status"], "pending");
    assert_eq!(answer["payment"]["mode"], "payment_link");
    assert_eq!(answer["delivery"]["channel"], "whatsapp");
    let link = answer["payment"]["link"].as_str().unwrap();
    shop.until(&reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    shop.control("customer/pay", &json!({"link": link, "method": "upi"}));
    let order = shop.until_confirmed(&reference);
    assert_eq!(order["fulfilment_status"], "completed");
    assert_eq!(order["payment"]["captured"]["value"], 85_000);
    assert_eq!(shop.inbox(&shop.phone).len(), 2, "the bill and the news");
    assert_eq!(held(&order), [""; 0]);
    // Several of the gateway's events speak of the one payment; it counts once.
    let captured = count(&order, "payment", |entry| entry["status"] == "captured");
    assert_eq!(captured, 1, "{order:#}");
    // Meta would let a link be paid that says something else than its message.
    for call in shop.received("send_message", &reference) {
        assert!(call.get("warnings").is_none(), "{call:#}");
    }
}

#[test]
fn a_bill_is_paid_inside_whatsapp_and_the_customer_is_told() {
    let shop = Shop::with(|plan| plan.native());
    let (reference, answer) = shop.sell();
    assert_eq!(answer["payment"]["mode"], "payment_gateway");
    assert!(answer["payment"].get("link").is_none(), "{answer}");
    shop.until(&reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    let tap = json!({"vendor": "meta", "reference_id": reference, "method": "upi"});
    shop.control("customer/pay", &tap);
    let order = shop.until_confirmed(&reference);
    assert_eq!(order["payment"]["captured"]["value"], 85_000);
    assert_eq!(shop.inbox(&shop.phone).len(), 2);
}

#[test]
fn a_failed_attempt_is_not_the_end() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    shop.customer("fail", &reference, json!({}));
    let order = shop.until(&reference, "the attempt to be seen", |order| {
        order["payment_status"] == "failed"
    });
    assert_eq!(message(&order, "paid"), &json!(null), "nothing is paid yet");
    shop.pay(&reference);
    let order = shop.until_confirmed(&reference);
    let attempts = order["payment"]["attempts"].as_array().unwrap();
    let mut states: Vec<&str> = attempts
        .iter()
        .map(|attempt| attempt["status"].as_str().unwrap())
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["captured", "failed"]);
}

#[test]
fn one_paisa_less_is_held_and_the_customer_is_told_nothing() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    shop.customer("pay", &reference, json!({"amount": 84_999}));
    let order = shop.until(&reference, "the order to be held", |order| {
        !held(order).is_empty()
    });
    assert_eq!(held(&order), ["amount_mismatch"]);
    // Every webhook of the payment has been answered: what they cause is there or never will be.
    let idle = shop.control("webhooks/wait", &json!({"timeout_ms": 10_000}));
    assert!(idle.get("idle").is_some(), "{idle}");
    let all_here = eventually(|| {
        let hooks = shop.hooks("payment", &reference);
        hooks
            .iter()
            .all(|hook| hook["state"] == "delivered")
            .then_some(())
    });
    assert!(all_here.is_some());
    let order = shop.order(&reference);
    assert_ne!(order["payment_status"], "captured");
    assert_eq!(message(&order, "paid"), &json!(null));
    assert_eq!(shop.inbox(&shop.phone).len(), 1, "only the bill");
}

#[test]
fn a_bill_paid_twice_is_held_and_confirmed_once() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    shop.until_confirmed(&reference);
    shop.customer("pay", &reference, json!({"late": true}));
    let order = shop.until(&reference, "the second payment to be held", |order| {
        !held(order).is_empty()
    });
    assert_eq!(held(&order), ["double_payment"]);
    assert_eq!(order["payment_status"], "captured");
    assert_eq!(order["payment"]["captured"]["value"], 85_000);
    assert_eq!(order["payment"]["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(shop.inbox(&shop.phone).len(), 2, "the bill and the news");
}

#[test]
fn late_money_pays_the_order_of_a_shop_that_accepts_it() {
    let shop = Shop::with(|plan| plan.document["late_payment"] = json!("accept"));
    let reference = shop.sell_and_deliver();
    shop.age(&reference, 45);
    stack().reconcile();
    assert_eq!(shop.order(&reference)["payment_status"], "expired");
    shop.until_next_second();
    shop.customer("pay", &reference, json!({"late": true}));
    let order = shop.until_confirmed(&reference);
    assert_eq!(held(&order), [""; 0]);
}
