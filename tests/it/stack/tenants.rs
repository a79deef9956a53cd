//! Two shops in one stack never meet.

use serde_json::json;

use super::http;
use super::shop::{Shop, eventually, random, stack};

#[test]
fn two_shops_may_use_the_same_reference_and_never_see_each_other() {
    let (one, other) = (Shop::open(), Shop::open());
    let mut bill = one.bill();
    let reference = bill["reference_id"].as_str().unwrap().to_owned();
    let first = one.post(&bill).json(201);
    // Another bill under the same number, at another till.
    bill["customer"]["phone"] = json!(format!("+{}", other.phone));
    bill["items"][0]["quantity"] = json!(1);
    bill["total_amount"]["value"] = json!(43_000);
    let second = other.post(&bill).json(201);
    assert_ne!(first["receipt_url"], second["receipt_url"]);
    assert_ne!(first["payment"]["link"], second["payment"]["link"]);
    one.pay(&reference);
    one.until_confirmed(&reference);
    let order = other.order(&reference);
    assert_eq!(order["total_amount"]["value"], 43_000);
    assert_eq!(order["payment_status"], "pending");
}

#[test]
fn a_shop_s_key_and_webhooks_open_nothing_of_another_shop() {
    let (one, other) = (Shop::open(), Shop::open());
    let (reference, answer) = one.sell();
    let path = format!("/invoices/{reference}");
    other.call("GET", &path, None).problem(404);
    other.set_status(&reference, "canceled").problem(404);
    // A key is looked up under the shop it names; naming another shop in it does not help.
    let stray = other.key.replace(&other.id, &one.id);
    stack()
        .aws
        .add_api_key(stack().usage_plan(), &random(12), &stray);
    let url = format!("{}{path}", stack().api_url);
    http::get(&url, &[("x-api-key", &stray)]).problem(401);
    // What one shop's gateway signed is forged at another's address.
    let fault = json!({"vendor": "razorpay", "kind": "drop_webhook", "times": null});
    one.fault(&reference, fault);
    one.control(
        "customer/pay",
        &json!({"link": answer["payment"]["link"], "method": "upi"}),
    );
    let hook = eventually(|| {
        one.hooks("payment_link.paid", &reference)
            .into_iter()
            .next()
    })
    .unwrap();
    let headers = hook["headers"].as_object().unwrap();
    let (name, signature) = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-razorpay-signature"))
        .unwrap();
    let body = hook["raw_body"].as_str().unwrap().as_bytes();
    let signed = [(name.as_str(), signature.as_str().unwrap())];
    assert_eq!(other.hook("razorpay", &signed, body).status, 401);
    assert_eq!(one.hook("razorpay", &signed, body).status, 200);
}
