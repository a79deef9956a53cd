//! From the till to the confirmation, for each way to pay, and what must not count as paid.

use serde_json::json;

use super::http;
use super::reporting::today;
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

/// What the page of an order says.
fn page(order: &serde_json::Value) -> String {
    let url = order["receipt_url"].as_str().unwrap();
    http::get(url, &[("accept", "text/html")]).text()
}

/// A shop whose customers pay another sum than the bill's, and the gateway is content: the bill is paid, everybody sees why, what can go
/// back goes back, and the day's books balance.
fn assert_paid_with(account: serde_json::Value, received: i64, name: &str, shown: &[&str]) {
    let shop = Shop::with(|plan| {
        let fields = plan.accounts["razorpay"].as_object_mut().unwrap();
        fields.extend(account.as_object().unwrap().clone());
        // Money that came late or twice goes back by itself; this is neither.
        plan.document["late_payment"] = json!("refund");
    });
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    let order = shop.until_confirmed(&reference);
    let payment = &order["payment"];
    assert_eq!(held(&order), [""; 0], "{order:#}");
    assert_eq!(payment["captured"]["value"], 85_000);
    assert_eq!(payment["received"]["value"], received);
    assert_eq!(payment[name]["value"], (received - 85_000_i64).abs());
    let text = page(&order);
    for words in shown {
        assert!(text.contains(words), "{words} is not on the page: {text}");
    }
    let back = received.min(85_000);
    assert_eq!(payment["refundable"]["value"], back);
    let path = format!("/invoices/{reference}/refunds");
    let more = json!({"refund_id": "more", "amount": {"value": back + 1, "offset": 100}});
    assert_eq!(shop.call("POST", &path, Some(&more)).status, 409);
    let all = json!({"refund_id": "all", "amount": {"value": back, "offset": 100}});
    shop.call("POST", &path, Some(&all)).json(201);
    shop.until(&reference, "the money to go back", |order| {
        order["payment_status"] == "refunded"
    });
    let day = shop.call("GET", &format!("/reports/day/{}", today()), None);
    let report = day.json(200);
    assert_eq!(report["ledger"]["balanced"], true, "{report:#}");
    let total = &report["ledger"]["total"];
    assert_eq!(total["captured"]["amount"]["value"], 85_000);
    assert_eq!(total["received"]["amount"]["value"], received);
    assert_eq!(total["kept"]["value"], 0);
}

/// Field report B02.
#[test]
fn a_customer_who_bears_the_gateway_s_fee_pays_the_bill() {
    let account = json!({"fee_bearer": "customer"});
    let shown = ["₹860.03", "₹850.00", "Payment fee", "₹10.03"];
    assert_paid_with(account, 86_003, "fee", &shown);
}

/// Field report B03.
#[test]
fn a_customer_who_uses_the_gateway_s_offer_pays_the_bill() {
    let account = json!({"offer": {"id": "offer_1", "amount": 5_000}});
    let shown = ["₹800.00", "₹850.00", "Payment offer", "₹50.00"];
    assert_paid_with(account, 80_000, "offer", &shown);
}

#[test]
fn a_voided_authorisation_leaves_the_way_to_pay_open() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    let payment = shop.customer("pay", &reference, json!({"authorize_only": true}));
    let id = payment["payment_id"].as_str().unwrap().to_owned();
    shop.customer("fail", &reference, json!({"payment_id": id}));
    let order = shop.until(&reference, "the attempt to be over", |order| {
        order["payment_status"] == "failed"
    });
    let again = page(&order);
    assert!(again.contains("You can try again"), "{again}");
    shop.pay(&reference);
    shop.until_confirmed(&reference);
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
