//! `POST /invoices`: once, whatever happens on the way to the gateway.

use std::thread;

use serde_json::{Value, json};

use super::http;
use super::shop::{Shop, random, stack};

fn links_made(shop: &Shop, reference: &str) -> usize {
    let calls = shop.received("create_payment_link", reference);
    let made = calls.iter().filter(|call| {
        call["answer"]["id"]
            .as_str()
            .is_some_and(|id| id.starts_with("plink_"))
    });
    made.count()
}

#[test]
fn the_same_bill_is_the_same_order_and_another_bill_is_a_conflict() {
    let shop = Shop::open();
    let bill = shop.bill();
    let first = shop.post(&bill).json(201);
    let again = shop.post(&bill).json(200);
    assert_eq!(first["payment"]["link"], again["payment"]["link"]);
    assert_eq!(first["receipt_url"], again["receipt_url"]);
    let mut other = bill.clone();
    other["items"][0]["name"] = json!("Basmati 10 kg");
    let problem = shop.post(&other).problem(409);
    assert_eq!(problem["code"], "reference_id_conflict");
    let reference = bill["reference_id"].as_str().unwrap();
    assert_eq!(links_made(&shop, reference), 1);
}

#[test]
fn a_bill_typed_in_another_spelling_is_the_same_bill() {
    let shop = Shop::open();
    let mut bill = shop.bill();
    bill["body"] = json!("Thank you\nVisit again");
    let first = shop.post(&bill).json(201);
    let national = shop.phone.strip_prefix("91").unwrap();
    let (left, right) = national.split_at(5);
    for phone in [
        format!("+{national}"),
        format!("0{left} {right}"),
        format!("(+91) {left}-{right}"),
    ] {
        let mut typed = bill.clone();
        typed["customer"]["phone"] = json!(phone);
        typed["items"][0]["name"] = json!("Basmati\t5 kg\r\n");
        typed["body"] = json!("Thank you\r\nVisit again");
        let again = shop.post(&typed).json(200);
        assert_eq!(again["receipt_url"], first["receipt_url"], "{phone}");
    }
    let mut landline = shop.bill();
    landline["customer"]["phone"] = json!("022 2345 6789");
    landline["footer"] = json!("a\u{0}b");
    let problem = shop.post(&landline).problem(400);
    let faults: Vec<(&Value, &Value)> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (&fault["pointer"], &fault["code"]))
        .collect();
    assert_eq!(
        faults,
        [
            (&json!("/customer/phone"), &json!("invalid")),
            (&json!("/footer"), &json!("control_character"))
        ]
    );
}

#[test]
fn an_idempotency_key_stands_for_the_reference_that_a_bill_does_not_have() {
    let shop = Shop::open();
    let mut bill = shop.bill();
    bill.as_object_mut().unwrap().remove("reference_id");
    let url = format!("{}/invoices", stack().api_url);
    let key = format!("till-1/{}", random(8));
    let headers = [
        ("x-api-key", shop.key.as_str()),
        ("idempotency-key", key.as_str()),
    ];
    let first = http::post(&url, &headers, &bill).json(201);
    let again = http::post(&url, &headers, &bill).json(200);
    assert_eq!(first["reference_id"], again["reference_id"]);
    // Without either, each is a bill of its own.
    let one = shop.post(&bill).json(201);
    let two = shop.post(&bill).json(201);
    assert_ne!(one["reference_id"], two["reference_id"]);
}

#[test]
fn twenty_tills_that_post_the_same_bill_at_once_make_one_order_and_one_link() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    let replies: Vec<http::Reply> = thread::scope(|scope| {
        let tills: Vec<_> = (0..20).map(|_| scope.spawn(|| shop.post(&bill))).collect();
        tills.into_iter().map(|till| till.join().unwrap()).collect()
    });
    let new = replies.iter().filter(|reply| reply.status == 201).count();
    // None, when the store's answer to the first one was lost and its write repeated: it then finds its own order.
    assert!(new <= 1, "{new}");
    let mut links: Vec<Value> = Vec::new();
    for reply in replies {
        let status = reply.status;
        assert!(matches!(status, 200 | 201), "{status}: {}", reply.text());
        links.push(reply.json(status)["payment"]["link"].clone());
    }
    links.dedup();
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(links_made(&shop, reference), 1);
    shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    assert_eq!(shop.inbox(&shop.phone).len(), 1, "one message");
}

#[test]
fn a_bill_whose_gateway_is_down_is_kept_and_resumed_by_the_same_bill() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    // Twice, because one request may ask twice.
    let down = json!({"vendor": "razorpay", "operation": "create_payment_link", "kind": "status", "status": 503, "times": 2});
    shop.fault(reference, down);
    let reply = shop.post(&bill);
    let problem = reply.problem(503);
    assert_eq!(problem["code"], "gateway_unavailable");
    let wait: u32 = reply.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait));
    let text = reply.text();
    assert!(!text.contains("127.0.0.1"), "the inside shows: {text}");
    // The order is there and waits.
    let order = shop.order(reference);
    assert_eq!(order["payment_status"], "pending");
    assert_eq!(
        order["messages"],
        json!([]),
        "nothing to pay, nothing to send"
    );
    let resumed = (0..3)
        .map(|_| shop.post(&bill))
        .find(|reply| reply.status != 503)
        .expect("the gateway is up again");
    let link = resumed.json(200)["payment"]["link"].clone();
    assert!(link.is_string());
    shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    assert_eq!(links_made(&shop, reference), 1);
}

#[test]
fn a_lost_answer_of_the_gateway_makes_no_second_link() {
    let shop = Shop::open();
    for kind in ["reset_after", "timeout_after", "status_after"] {
        let bill = shop.bill();
        let reference = bill["reference_id"].as_str().unwrap();
        let lost = json!({"vendor": "razorpay", "operation": "create_payment_link", "kind": kind, "delay_ms": 300, "status": 502});
        shop.fault(reference, lost);
        let answer = shop.post(&bill).json(201);
        let link = answer["payment"]["link"].as_str().unwrap();
        assert_eq!(
            shop.received("create_payment_link", reference).len(),
            1,
            "{kind}"
        );
        // It is the link that the gateway made, and it can be paid.
        shop.control("customer/pay", &json!({"link": link, "method": "upi"}));
        shop.until(reference, "the payment to count", |order| {
            order["payment_status"] == "captured"
        });
    }
}

#[test]
fn what_the_gateway_refuses_is_told_and_the_bill_may_be_posted_again() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    let refused = json!({"vendor": "razorpay", "operation": "create_payment_link", "kind": "status", "status": 400});
    shop.fault(reference, refused);
    assert_eq!(shop.post(&bill).problem(422)["code"], "provider_refused");
    assert!(shop.post(&bill).json(200)["payment"]["link"].is_string());
}
