//! What is refused, and how that reads (RFC 9457).

use chatbill_testkit::events;
use serde_json::{Value, json};

use super::http;
use super::shop::{Shop, random, stack};

fn post(path: &str, headers: &[(&str, &str)], body: &str) -> http::Reply {
    let url = format!("{}{path}", stack().api_url);
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    http::send("POST", &url, &all, Some(body.as_bytes()))
}

#[test]
fn nobody_gets_in_without_a_key_of_the_shop() {
    let shop = Shop::open();
    let bill = shop.bill().to_string();
    // The gateway's own refusals have the form of all others.
    assert_eq!(
        post("/invoices", &[], &bill).problem(401)["code"],
        "unauthorized"
    );
    let unknown = format!("cb_{}_{}", shop.id, random(32));
    post("/invoices", &[("x-api-key", &unknown)], &bill).problem(401);
    // A key that passes the gateway and is none of the shop's is refused by the function.
    let plan = stack().usage_plan();
    let name = format!("{}-stray", shop.id);
    stack().aws.add_api_key(plan, &name, &unknown);
    post("/invoices", &[("x-api-key", &unknown)], &bill).problem(401);
    let url = format!("{}/invoices/{}", stack().api_url, "T-1");
    http::get(&url, &[("x-api-key", &unknown)]).problem(401);
}

#[test]
fn a_function_that_is_called_around_the_gateway_is_not_open() {
    for (resource, name) in [
        ("CreateInvoice", "create-invoice"),
        ("Order", "order"),
        ("Change", "change"),
        ("Refund", "refund"),
    ] {
        let event = serde_json::from_str(&events::text(name, "no-key")).unwrap();
        let function = stack().aws.function(resource);
        let answer = stack().aws.invoke(&function, &event);
        assert_eq!(answer["statusCode"], 401, "{name}: {answer}");
    }
}

#[test]
fn a_key_does_only_what_its_scopes_say() {
    let shop = Shop::with(|plan| plan.document["api_keys"][0]["scopes"] = json!(["refunds"]));
    let problem = shop.post(&shop.bill()).problem(403);
    assert_eq!(problem["code"], "missing_scope");
    shop.call("GET", "/invoices/T-1", None).problem(403);
}

#[test]
fn what_is_not_there_is_not_found() {
    let shop = Shop::open();
    for path in ["/invoices/T-404", "/invoices/T-404/refunds"] {
        assert_eq!(
            shop.call("GET", path, None).problem(404)["code"],
            "not_found"
        );
    }
    shop.set_status("T-404", "shipped").problem(404);
    shop.call("GET", "/no/such/route", None).problem(404);
}

#[test]
fn all_faults_of_a_bill_are_told_at_once_with_pointers() {
    let shop = Shop::open();
    let mut bill = shop.bill();
    bill["customer"]["phone"] = json!("12345");
    bill["goods"] = json!("services");
    bill["items"][0]["quantity"] = json!(0);
    bill["currency"] = json!("USD");
    bill["surprise"] = json!(true);
    let problem = shop.post(&bill).problem(400);
    let mut pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            assert!(
                error["code"].is_string() && error["detail"].is_string(),
                "{error}"
            );
            error["pointer"].as_str().unwrap()
        })
        .collect();
    pointers.sort_unstable();
    let wanted = [
        "/currency",
        "/customer/phone",
        "/goods",
        "/items/0/quantity",
        "/surprise",
    ];
    assert_eq!(pointers, wanted, "{problem:#}");
}

#[test]
fn a_body_that_can_be_read_in_two_ways_is_refused() {
    let shop = Shop::open();
    let key = [("x-api-key", shop.key.as_str())];
    let bill = shop.bill().to_string();
    let twice = bill.replacen('{', "{\"currency\":\"USD\",", 1);
    let problem = post("/invoices", &key, &twice).problem(400);
    assert_eq!(problem["code"], "invalid_request", "{problem}");
    post("/invoices", &key, "{\"reference_id\":").problem(400);
    post("/invoices", &key, "[]").problem(400);
    post("/invoices", &key, "").problem(400);
}

#[test]
fn a_total_that_does_not_add_up_is_refused() {
    let shop = Shop::open();
    let mut bill = shop.bill();
    bill["total_amount"]["value"] = json!(85_001);
    let problem = shop.post(&bill).problem(400);
    let pointers: Vec<&Value> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["pointer"])
        .collect();
    assert!(
        pointers
            .iter()
            .all(|pointer| pointer.as_str().unwrap().starts_with("/total_amount")),
        "{problem}"
    );
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let shop = Shop::open();
    let mut bill = shop.bill();
    bill["body"] = json!("x".repeat(300 * 1024));
    assert_eq!(shop.post(&bill).problem(413)["code"], "body_too_large");
}

#[test]
fn what_nobody_paid_is_not_given_back() {
    let shop = Shop::open();
    let (reference, _) = shop.sell();
    let path = format!("/invoices/{reference}/refunds");
    let problem = shop.call("POST", &path, Some(&json!({}))).problem(409);
    assert_eq!(problem["code"], "nothing_paid");
    let refunds = shop.call("GET", &path, None).json(200);
    assert_eq!(refunds["refunds"], json!([]));
}
