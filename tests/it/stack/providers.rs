//! The same chain through other messaging providers than Meta.

use serde_json::json;

use super::shop::{Plan, Shop, message, random, stack};

/// WhatsApp through Exotel: no order templates, so the customer has written to the shop first.
fn exotel(plan: &mut Plan, sid: &str) {
    let (key, token) = (random(20), random(20));
    plan.accounts["exotel"] = json!({
        "account_sid": sid, "api_key": key, "api_token": token, "from": "+918045210677", "sms": {},
        "webhook_url": plan.accounts["razorpay"]["webhook_url"].as_str().unwrap().replace("razorpay", "exotel"),
    });
    let channel = &mut plan.document["channel"];
    channel["provider"] = json!("exotel");
    channel["base_url"] = json!(format!("{}/exotel", stack().sandbox_url));
    channel["credentials"] = json!({"account_sid": sid, "api_key": key, "api_token": token, "callback_token": random(24)});
    channel.as_object_mut().unwrap().remove("templates");
}

fn exotel_shop() -> Shop {
    let sid = random(10);
    let shop = Shop::with(|plan| exotel(plan, &sid));
    let hello = json!({"vendor": "exotel", "phone": shop.phone, "account": sid});
    shop.control("customer/message", &hello);
    shop
}

#[test]
fn a_bill_goes_out_through_exotel_and_its_payment_is_confirmed() {
    let shop = exotel_shop();
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    let order = shop.until_confirmed(&reference);
    assert_eq!(order["delivery"]["provider"], "exotel");
    assert_eq!(order["payment"]["captured"]["value"], 85_000);
    assert_eq!(shop.inbox(&shop.phone), ["order_details", "order_status"]);
}

#[test]
fn exotel_s_throttle_is_waited_out() {
    let shop = exotel_shop();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap().to_owned();
    shop.fault(
        &reference,
        json!({"vendor": "exotel", "operation": "send_message", "kind": "status", "status": 429, "times": 1}),
    );
    shop.post(&bill).json(201);
    let order = shop.until(&reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    assert_eq!(message(&order, "invoice.1")["attempts"], 2);
    assert_eq!(shop.inbox(&shop.phone), ["order_details"]);
}
