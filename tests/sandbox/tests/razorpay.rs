//! Razorpay, held to its documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use serde_json::{Value, json};
use support::Bench;

const LINKS: &str = "/v1/payment_links";

fn description(answer: &Value) -> &str {
    answer["error"]["description"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn webhook_signatures_are_those_of_the_sdk() {
    let bench = Bench::start().await;
    let vectors: Value = serde_json::from_str(include_str!("vectors/razorpay.json")).unwrap();
    let mut checked = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        if vector["kind"] != "webhook" {
            continue;
        }
        bench
            .register(json!({"webhook_secret": vector["secret"]}), json!({}))
            .await;
        bench
            .control(
                "webhooks/send",
                json!({"vendor": "razorpay", "raw_body": vector["raw_body"]}),
            )
            .await;
        let got = bench.receiver.got().pop().unwrap();
        assert_eq!(got.raw, vector["raw_body"].as_str().unwrap().as_bytes());
        assert_eq!(
            got.header("x-razorpay-signature"),
            vector["expected_signature"].as_str().unwrap(),
            "{}",
            vector["id"]
        );
        checked += 1;
    }
    assert!(checked >= 8);
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_the_documented_envelope() {
    let bench = Bench::start().await;
    for authorization in [
        "",
        "Basic eDp5",
        "Bearer token",
        "Basic cnpwX3Rlc3Rfc2hvcDp3cm9uZw==",
    ] {
        let (status, text) = bench
            .raw(
                "GET",
                "/razorpay/v1/payment_links",
                &[("authorization", authorization)],
                None,
            )
            .await
            .unwrap();
        assert_eq!(status, 401, "{authorization}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["error"]["code"], "BAD_REQUEST_ERROR");
        for key in ["description", "source", "step", "reason", "metadata"] {
            assert!(answer["error"].get(key).is_some(), "{key}");
        }
    }
    let received = bench.look("received?vendor=razorpay").await;
    assert!(
        !received
            .to_string()
            .contains("cnpwX3Rlc3Rfc2hvcDp3cm9uZw==")
    );
}

#[tokio::test]
async fn a_link_breaking_any_rule_is_refused() {
    let bench = Bench::start().await;
    let now = bench.now().await;
    let long = "x".repeat(41);
    let sixteen: Value = (0..16)
        .map(|n| (n.to_string(), Value::from("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let cases = [
        (json!({"amount": null}), "The amount must be an integer."),
        (
            json!({"amount": 99}),
            "The amount must be at least INR 1.00",
        ),
        (json!({"amount": 100.5}), "The amount must be an integer."),
        (json!({"amount": "500"}), "The amount must be an integer."),
        (
            json!({"currency": "USD"}),
            "is \"USD\", must be one of [\"INR\"]",
        ),
        (
            json!({"reference_id": long}),
            "has 41 characters, at most 40 are allowed",
        ),
        (
            json!({"description": "x".repeat(2049)}),
            "has 2049 characters, at most 2048 are allowed",
        ),
        (
            json!({"expire_by": now + 800}),
            "timestamp must be atleast 15 minutes in future",
        ),
        (
            json!({"expire_by": now + 200 * 86_400}),
            "expire_by cannot be more than six months from the date of creation",
        ),
        (
            json!({"notes": sixteen}),
            "has 16 pairs, at most 15 are allowed",
        ),
        (
            json!({"notes": {"k": "x".repeat(257)}}),
            "value: the length must not be greater than 256.",
        ),
        (json!({"notes": {"k": 1}}), "The notes.k must be a string."),
        (
            json!({"callback_url": "https://shop.example/paid"}),
            "The callback_method is required",
        ),
        (
            json!({"callback_url": "https://shop.example/paid", "callback_method": "post"}),
            "is \"post\", must be one of [\"get\"]",
        ),
        (
            json!({"upi_link": true}),
            "UPI Payment Links is not supported in Test Mode. Please experience the product in Live Mode.",
        ),
        (json!({"surprise": 1}), "wrong input fields sent."),
        (
            json!({"customer": {"phone": "1"}}),
            "wrong input fields sent.",
        ),
    ];
    for (change, wanted) in cases {
        let mut body = json!({"amount": 50000, "currency": "INR", "reference_id": "INV-1"});
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let (status, answer) = bench.razorpay("POST", LINKS, Some(body)).await;
        assert_eq!(status, 400, "{change}");
        assert_eq!(description(&answer), wanted, "{change}");
    }
    let (status, answer) = bench
        .razorpay("POST", LINKS, Some(json!({"currency": "INR"})))
        .await;
    assert_eq!(
        (status, description(&answer)),
        (400, "The amount is required")
    );
    // None of them took the reference.
    bench.link("INV-1").await;
}

#[tokio::test]
async fn a_reference_makes_one_link_and_is_found_again() {
    let bench = Bench::start().await;
    let link = bench.link("INV-1").await;
    assert_eq!(link["status"], "created");
    assert_eq!(link["payments"], Value::Null);
    let (status, answer) = bench
        .razorpay(
            "POST",
            LINKS,
            Some(json!({"amount": 100, "reference_id": "INV-1"})),
        )
        .await;
    assert_eq!(status, 400);
    assert_eq!(
        description(&answer),
        "payment link creation with reference ID already attempted"
    );
    let (_, found) = bench
        .razorpay("GET", &format!("{LINKS}?reference_id=INV-1"), None)
        .await;
    assert_eq!(found["payment_links"][0]["id"], link["id"]);
    let (_, none) = bench
        .razorpay("GET", &format!("{LINKS}?reference_id=INV-2"), None)
        .await;
    assert_eq!(none["payment_links"], json!([]));

    // Another account has its own references.
    bench
        .control(
            "accounts",
            json!({"razorpay": {"key_id": "other", "key_secret": "o"}}),
        )
        .await;
    let (status, _) = bench
        .raw(
            "POST",
            "/razorpay/v1/payment_links",
            &[("authorization", "Basic b3RoZXI6bw==")],
            Some(json!({"amount": 100, "reference_id": "INV-1"}).to_string()),
        )
        .await
        .unwrap();
    assert_eq!(status, 200);
    let (status, _) = bench
        .raw(
            "GET",
            &format!("/razorpay{LINKS}/{}", link["id"].as_str().unwrap()),
            &[("authorization", "Basic b3RoZXI6bw==")],
            None,
        )
        .await
        .unwrap();
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_paid_link_sends_the_documented_events() {
    let bench = Bench::start().await;
    let (_, link) = bench
        .razorpay(
            "POST",
            LINKS,
            Some(json!({
                "amount": 50000, "reference_id": "INV-1", "notes": {"till": "4"},
                "callback_url": "https://shop.example/r", "callback_method": "get",
            })),
        )
        .await;
    let paid = bench
        .control("customer/pay", json!({"link": link["short_url"]}))
        .await;
    assert_eq!(paid["redirect"]["razorpay_payment_link_status"], "paid");
    bench.settle().await;
    assert_eq!(
        bench.receiver.events(),
        [
            "payment.authorized",
            "payment.captured",
            "order.paid",
            "payment_link.paid"
        ]
    );
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(
        got.body["contains"],
        json!(["payment_link", "order", "payment"])
    );
    let payload = &got.body["payload"];
    let order = payload["order"]["entity"]["id"].as_str().unwrap();
    assert!(!order.starts_with("order_"));
    assert_eq!(
        payload["payment"]["entity"]["order_id"],
        format!("order_{order}")
    );
    assert_eq!(payload["order"]["entity"]["receipt"], "INV-1");
    assert_eq!(
        payload["order"]["entity"]["product_type"],
        "payment_link_v2"
    );
    for entity in ["payment_link", "order", "payment"] {
        assert_eq!(payload[entity]["entity"]["notes"], json!({"till": "4"}));
    }
    assert_eq!(payload["payment_link"]["entity"]["status"], "paid");
    assert_eq!(payload["payment_link"]["entity"].get("payments"), None);

    let ids: std::collections::HashSet<String> = bench
        .receiver
        .got()
        .iter()
        .map(|got| got.header("x-razorpay-event-id"))
        .collect();
    assert_eq!(ids.len(), 4);

    let id = paid["payment_id"].as_str().unwrap();
    let (_, payment) = bench
        .razorpay("GET", &format!("/v1/payments/{id}"), None)
        .await;
    assert_eq!(payment["status"], "captured");
    let order = paid["order_id"].as_str().unwrap();
    let (_, payments) = bench
        .razorpay("GET", &format!("/v1/orders/{order}/payments"), None)
        .await;
    assert_eq!(payments["count"], 1);
    let (_, shown) = bench
        .razorpay(
            "GET",
            &format!("{LINKS}/{}", link["id"].as_str().unwrap()),
            None,
        )
        .await;
    assert_eq!(shown["payments"][0]["payment_id"], id);
    assert_eq!(shown["amount_paid"], 50000);

    let (status, page) = bench
        .raw(
            "GET",
            &format!("/razorpay/pay/{}", link["id"].as_str().unwrap()),
            &[],
            None,
        )
        .await
        .unwrap();
    assert_eq!(status, 200);
    assert!(page.contains("500.00") && page.contains("paid"));
    let (status, code) = bench
        .control_refused("customer/pay", json!({"link": link["id"]}))
        .await;
    assert_eq!((status, code.as_str()), (409, "not_payable"));
}

#[tokio::test]
async fn a_failed_attempt_does_not_end_the_link() {
    let bench = Bench::start().await;
    let link = bench.link("INV-1").await;
    bench
        .control("customer/fail", json!({"link": link["id"]}))
        .await;
    bench
        .control(
            "customer/cancel",
            json!({"vendor": "razorpay", "reference_id": "INV-1"}),
        )
        .await;
    bench
        .control("customer/pay", json!({"link": link["id"]}))
        .await;
    bench.settle().await;
    let events = bench.receiver.events();
    assert_eq!(events[..2], ["payment.failed", "payment.failed"]);
    assert_eq!(events.last().unwrap(), "payment_link.paid");
    let failed = &bench.receiver.got()[0].body["payload"]["payment"]["entity"];
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["error_reason"], "payment_failed");
    // All attempts are on one order.
    assert_eq!(
        failed["order_id"],
        bench.receiver.got()[2].body["payload"]["payment"]["entity"]["order_id"]
    );
}

#[tokio::test]
async fn links_are_cancelled_and_expire_as_documented() {
    let bench = Bench::start().await;
    let cancelled = bench.link("INV-1").await;
    let cancel = format!("{LINKS}/{}/cancel", cancelled["id"].as_str().unwrap());
    let (status, answer) = bench.razorpay("POST", &cancel, None).await;
    assert_eq!((status, &answer["status"]), (200, &json!("cancelled")));
    let (status, answer) = bench.razorpay("POST", &cancel, None).await;
    assert_eq!(
        (status, description(&answer)),
        (400, "cannot cancel or expire an expired link")
    );

    let paid = bench.link("INV-2").await;
    bench
        .control("customer/pay", json!({"link": paid["id"]}))
        .await;
    let (status, answer) = bench
        .razorpay(
            "POST",
            &format!("{LINKS}/{}/cancel", paid["id"].as_str().unwrap()),
            None,
        )
        .await;
    assert_eq!(
        (status, description(&answer)),
        (
            400,
            "cannot cancel or expire an already paid/partially paid link"
        )
    );
    let (_, answer) = bench
        .razorpay(
            "POST",
            &format!("{LINKS}/plink_00000000000000/cancel"),
            None,
        )
        .await;
    assert_eq!(description(&answer), "The id provided does not exist");
    let (_, answer) = bench
        .razorpay("GET", &format!("{LINKS}/plink_1"), None)
        .await;
    assert_eq!(description(&answer), "invalid input [strippedId] = [1]");

    let now = bench.now().await;
    let (_, link) = bench
        .razorpay(
            "POST",
            LINKS,
            Some(json!({"amount": 100, "reference_id": "INV-3", "expire_by": now + 1800})),
        )
        .await;
    let id = link["id"].as_str().unwrap();
    let (_, changed) = bench
        .razorpay(
            "PATCH",
            &format!("{LINKS}/{id}"),
            Some(json!({"expire_by": now + 3600, "notes": {"a": "b"}})),
        )
        .await;
    assert_eq!(changed["expire_by"], now + 3600);
    let (_, refused) = bench
        .razorpay(
            "PATCH",
            &format!("{LINKS}/{id}"),
            Some(json!({"amount": 5})),
        )
        .await;
    assert_eq!(description(&refused), "wrong input fields sent.");
    bench
        .control("clock", json!({"advance_seconds": 2000}))
        .await;
    let (_, shown) = bench.razorpay("GET", &format!("{LINKS}/{id}"), None).await;
    assert_eq!(shown["status"], "created");
    bench
        .control("clock", json!({"advance_seconds": 2000}))
        .await;
    let (_, shown) = bench.razorpay("GET", &format!("{LINKS}/{id}"), None).await;
    assert_eq!(shown["status"], "expired");
    bench.settle().await;
    assert_eq!(
        bench.receiver.events().last().unwrap(),
        "payment_link.expired"
    );

    // Late authorisation: the money comes, the link stays expired.
    bench
        .control("customer/pay", json!({"link": id, "late": true}))
        .await;
    bench.settle().await;
    assert_eq!(bench.receiver.events().last().unwrap(), "order.paid");
    let (_, shown) = bench.razorpay("GET", &format!("{LINKS}/{id}"), None).await;
    assert_eq!(shown["status"], "expired");
}

async fn paid(bench: &Bench, reference: &str) -> String {
    let link = bench.link(reference).await;
    let paid = bench
        .control("customer/pay", json!({"link": link["id"]}))
        .await;
    paid["payment_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn refunds_never_exceed_the_payment() {
    let bench = Bench::start().await;
    let id = paid(&bench, "INV-1").await;
    let path = format!("/v1/payments/{id}/refund");
    let (status, first) = bench
        .razorpay(
            "POST",
            &path,
            Some(json!({"amount": 20000, "speed": "optimum"})),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(first["status"], "processed");
    assert_eq!(first["speed_processed"], "instant");
    for (body, wanted) in [
        (
            json!({"amount": 30001}),
            "The refund amount provided is greater than amount captured",
        ),
        (
            json!({"amount": 99}),
            "The amount must be at least INR 1.00",
        ),
        (
            json!({"amount": 0, "speed": "optimum"}),
            "The amount must be at least INR 1.00",
        ),
        (
            json!({"amount": 100, "speed": "instant"}),
            "is \"instant\", must be one of [\"normal\", \"optimum\"]",
        ),
        (
            json!({"amount": 100, "currency": "INR"}),
            "currency is/are not required and should not be sent",
        ),
    ] {
        let (status, answer) = bench.razorpay("POST", &path, Some(body)).await;
        assert_eq!((status, description(&answer)), (400, wanted));
    }
    let (_, rest) = bench.razorpay("POST", &path, None).await;
    assert_eq!(rest["amount"], 30000);
    let (_, answer) = bench.razorpay("POST", &path, None).await;
    assert_eq!(
        description(&answer),
        "The payment has been fully refunded already"
    );
    let (_, payment) = bench
        .razorpay("GET", &format!("/v1/payments/{id}"), None)
        .await;
    assert_eq!(payment["refund_status"], "full");
    assert_eq!(payment["status"], "refunded");
    let (_, all) = bench
        .razorpay("GET", &format!("/v1/payments/{id}/refunds"), None)
        .await;
    assert_eq!(all["count"], 2);
    let (_, one) = bench
        .razorpay(
            "GET",
            &format!("/v1/refunds/{}", first["id"].as_str().unwrap()),
            None,
        )
        .await;
    assert_eq!(one, first);
    bench.settle().await;
    let events = bench.receiver.events();
    assert_eq!(
        events[4..],
        [
            "refund.created",
            "refund.processed",
            "refund.created",
            "refund.processed"
        ]
    );
}

#[tokio::test]
async fn a_refund_key_makes_one_refund() {
    let bench = Bench::start().await;
    let id = paid(&bench, "INV-1").await;
    let path = format!("/v1/payments/{id}/refund");
    let key = [("x-refund-idempotency", "refund-INV-1")];
    let body = json!({"amount": 20000});
    let (_, first) = bench
        .razorpay_with("POST", &path, &key, Some(body.clone()))
        .await;
    let (_, again) = bench.razorpay_with("POST", &path, &key, Some(body)).await;
    assert_eq!(first["id"], again["id"]);
    let (status, answer) = bench
        .razorpay_with("POST", &path, &key, Some(json!({"amount": 20001})))
        .await;
    assert_eq!(
        (status, description(&answer)),
        (
            409,
            "Different request with the same idempotency key has already been processed."
        )
    );
    for (bad, wanted) in [
        ("short", "at least 10 characters"),
        ("has spaces in it", "must only contain alphanumeric"),
        ("has.a.dot.in.it", "must only contain alphanumeric"),
    ] {
        let (status, answer) = bench
            .razorpay_with("POST", &path, &[("x-refund-idempotency", bad)], None)
            .await;
        assert_eq!(status, 400, "{bad}");
        assert!(description(&answer).contains(wanted), "{answer}");
    }
    // While the first is in flight.
    let fault = json!({"vendor": "razorpay", "operation": "create_refund", "kind": "status", "status": 409});
    bench.control("faults", fault).await;
    let (status, answer) = bench.razorpay_with("POST", &path, &key, None).await;
    assert_eq!(
        (status, description(&answer)),
        (
            409,
            "Another request with the same idempotency key is still in progress."
        )
    );
}

#[tokio::test]
async fn a_pending_refund_ends_by_control() {
    let bench = Bench::start().await;
    bench
        .register(json!({"refunds": "pending"}), json!({}))
        .await;
    let id = paid(&bench, "INV-1").await;
    let (_, refund) = bench
        .razorpay("POST", &format!("/v1/payments/{id}/refund"), None)
        .await;
    assert_eq!(refund["status"], "pending");
    let settle = format!("refunds/{}", refund["id"].as_str().unwrap());
    bench.control(&settle, json!({"status": "failed"})).await;
    let (status, _) = bench
        .control_refused(&settle, json!({"status": "processed"}))
        .await;
    assert_eq!(status, 409);
    // What failed can be refunded again.
    let (status, _) = bench
        .razorpay("POST", &format!("/v1/payments/{id}/refund"), None)
        .await;
    assert_eq!(status, 200);
    bench.settle().await;
    assert!(
        bench
            .receiver
            .events()
            .contains(&"refund.failed".to_owned())
    );
}

#[tokio::test]
async fn a_refund_beyond_the_balance_is_refused_until_it_is_topped_up() {
    let bench = Bench::start().await;
    let id = paid(&bench, "INV-1").await;
    let top_up =
        |balance: Value| json!({"razorpay": {"key_id": "rzp_test_shop", "balance": balance}});
    bench.control("accounts", top_up(json!(30_000))).await;
    let refund = |amount: i64| Some(json!({"amount": amount}));
    let path = format!("/v1/payments/{id}/refund");
    let (status, _) = bench.razorpay("POST", &path, refund(20_000)).await;
    assert_eq!(status, 200);
    let (status, refused) = bench.razorpay("POST", &path, refund(20_000)).await;
    assert_eq!(status, 400);
    let words = refused["error"]["description"].as_str().unwrap();
    assert!(words.contains("enough balance"), "{words}");
    bench.control("accounts", top_up(json!(20_000))).await;
    let (status, _) = bench.razorpay("POST", &path, refund(20_000)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_refund_of_the_dashboard_is_one_like_any_other() {
    let bench = Bench::start().await;
    let id = paid(&bench, "INV-1").await;
    let asked = |amount: i64| json!({"vendor": "razorpay", "payment_id": id, "amount": amount, "notes": {"comment": "torn"}});
    let made = bench.control("refunds", asked(20_000)).await;
    assert_eq!(
        (made["amount"].as_i64(), made["receipt"].as_str()),
        (Some(20_000), None)
    );
    assert_eq!(made["status"], "processed");
    let (_, all) = bench
        .razorpay("GET", &format!("/v1/payments/{id}/refunds"), None)
        .await;
    assert_eq!(all["items"], json!([made]));
    for (request, wanted) in [
        (asked(30_001), (409, "not_refundable")),
        (asked(99), (400, "invalid")),
        (
            json!({"vendor": "razorpay", "payment_id": "pay_1"}),
            (404, "not_found"),
        ),
        (json!({"vendor": "razorpay"}), (400, "invalid")),
        (
            json!({"vendor": "meta", "payment_id": id}),
            (404, "not_found"),
        ),
    ] {
        let (status, code) = bench.control_refused("refunds", request).await;
        assert_eq!((status, code.as_str()), wanted);
    }
    bench.settle().await;
    assert_eq!(
        bench.receiver.events()[4..],
        ["refund.created", "refund.processed"]
    );
}

#[tokio::test]
async fn refunds_may_take_their_time() {
    let bench = Bench::start().await;
    bench
        .register(json!({"refund_seconds": 3600}), json!({}))
        .await;
    let id = paid(&bench, "INV-1").await;
    let (_, refund) = bench
        .razorpay("POST", &format!("/v1/payments/{id}/refund"), None)
        .await;
    assert_eq!(refund["status"], "pending");
    let path = format!("/v1/refunds/{}", refund["id"].as_str().unwrap());
    bench
        .control("clock", json!({"advance_seconds": 3599}))
        .await;
    let (_, refund) = bench.razorpay("GET", &path, None).await;
    assert_eq!(refund["status"], "pending");
    bench.control("clock", json!({"advance_seconds": 1})).await;
    let (_, refund) = bench.razorpay("GET", &path, None).await;
    assert_eq!(refund["status"], "processed");
    bench.settle().await;
    assert_eq!(bench.receiver.events().last().unwrap(), "refund.processed");
}

#[tokio::test]
async fn an_attempt_that_failed_may_succeed_days_later() {
    let bench = Bench::start().await;
    let link = bench.link("INV-1").await;
    let failed = bench
        .control("customer/fail", json!({"link": link["id"]}))
        .await;
    bench
        .control("clock", json!({"advance_seconds": 8 * 86_400}))
        .await;
    let request = json!({"link": link["id"], "payment_id": failed["payment_id"], "late": true});
    let paid = bench.control("customer/pay", request.clone()).await;
    assert_eq!(paid["payment_id"], failed["payment_id"]);
    let path = format!("/v1/payments/{}", paid["payment_id"].as_str().unwrap());
    let (_, payment) = bench.razorpay("GET", &path, None).await;
    assert_eq!(
        (payment["status"].as_str(), payment["error_code"].as_str()),
        (Some("captured"), None)
    );
    let (status, code) = bench.control_refused("customer/pay", request).await;
    assert_eq!((status, code.as_str()), (409, "not_capturable"));
    let other = json!({"link": link["id"], "payment_id": "pay_1", "late": true});
    assert_eq!(bench.control_refused("customer/pay", other).await.0, 404);
    bench.settle().await;
    let events = bench.receiver.events();
    let after_failure: Vec<_> = events
        .iter()
        .skip_while(|event| *event != "payment.failed")
        .filter(|event| *event != "payment_link.expired")
        .collect();
    assert_eq!(
        after_failure[..4],
        [
            "payment.failed",
            "payment.authorized",
            "payment.captured",
            "order.paid"
        ]
    );
}

#[tokio::test]
async fn fees_and_offers_change_the_payment_and_not_the_link() {
    for (account, amount, back) in [
        (json!({"fee_bearer": "customer"}), 101_180, 100_000),
        (
            json!({"offer": {"id": "offer_1", "amount": 5_000}}),
            95_000,
            95_000,
        ),
    ] {
        let bench = Bench::start().await;
        let has_fee = account["fee_bearer"] == "customer";
        bench.register(account, json!({})).await;
        let body = json!({"amount": 100_000, "currency": "INR", "reference_id": "INV-1"});
        let (_, link) = bench.razorpay("POST", LINKS, Some(body)).await;
        let request = json!({"link": link["id"]});
        let paid = bench.control("customer/pay", request).await;
        let id = paid["payment_id"].as_str().unwrap();
        let (_, payment) = bench
            .razorpay("GET", &format!("/v1/payments/{id}"), None)
            .await;
        assert_eq!(payment["amount"], amount);
        if has_fee {
            assert_eq!(payment["fee_bearer"], "customer");
            assert_eq!(payment["fee"], amount - 100_000);
        } else {
            assert_eq!(payment["offer_id"], "offer_1");
        }
        let path = format!("{LINKS}/{}", link["id"].as_str().unwrap());
        let (_, link) = bench.razorpay("GET", &path, None).await;
        assert_eq!(
            (&link["status"], &link["amount_paid"]),
            (&json!("paid"), &json!(100_000))
        );
        for (wanted, status) in [(back + 1, 400), (back, 200)] {
            let path = format!("/v1/payments/{id}/refund");
            let body = json!({"amount": wanted});
            let (got, answer) = bench.razorpay("POST", &path, Some(body)).await;
            assert_eq!(got, status, "{answer}");
        }
    }
}

#[tokio::test]
async fn an_authorised_payment_can_be_voided() {
    let bench = Bench::start().await;
    let link = bench.link("INV-1").await;
    let request = json!({"link": link["id"], "authorize_only": true});
    let authorized = bench.control("customer/pay", request).await;
    let request = json!({"link": link["id"], "payment_id": authorized["payment_id"]});
    let failed = bench.control("customer/fail", request).await;
    assert_eq!(failed["payment_id"], authorized["payment_id"]);
    bench.settle().await;
    assert_eq!(
        bench.receiver.events(),
        ["payment.authorized", "payment.failed"]
    );
}

#[tokio::test]
async fn what_nobody_captures_goes_back_by_itself() {
    let bench = Bench::start().await;
    let authorized = |reference: &'static str| {
        let bench = &bench;
        async move {
            let link = bench.link(reference).await;
            let request = json!({"link": link["id"], "authorize_only": true});
            (link, bench.control("customer/pay", request).await)
        }
    };
    let (_, forgotten) = authorized("INV-1").await;
    let (link, remembered) = authorized("INV-2").await;
    let request = json!({"link": link["id"], "payment_id": remembered["payment_id"]});
    bench.control("customer/pay", request).await;
    bench
        .control("clock", json!({"advance_seconds": 3 * 86_400}))
        .await;
    for (payment, status, captured, refunds) in [
        (&forgotten, "refunded", false, 1),
        (&remembered, "captured", true, 0),
    ] {
        let path = format!("/v1/payments/{}", payment["payment_id"].as_str().unwrap());
        let (_, shown) = bench.razorpay("GET", &path, None).await;
        assert_eq!(
            (shown["status"].as_str(), shown["captured"].as_bool()),
            (Some(status), Some(captured))
        );
        let (_, all) = bench
            .razorpay("GET", &format!("{path}/refunds"), None)
            .await;
        assert_eq!(all["count"], refunds);
    }
    bench.settle().await;
    let refund = bench
        .receiver
        .got()
        .into_iter()
        .find(|got| got.body["event"] == "refund.processed")
        .unwrap();
    assert_eq!(
        refund.body["payload"]["payment"]["entity"]["captured"],
        false
    );
}

#[tokio::test]
async fn a_upi_link_is_for_live_accounts_and_upi_apps() {
    let bench = Bench::start().await;
    let account = json!({"razorpay": {"key_id": "rzp_live_shop", "key_secret": "key_secret_live"}});
    bench.control("accounts", account).await;
    // rzp_live_shop:key_secret_live
    let key = [(
        "authorization",
        "Basic cnpwX2xpdmVfc2hvcDprZXlfc2VjcmV0X2xpdmU=",
    )];
    let wanted = |more: Value| {
        let mut body =
            json!({"amount": 50_000, "currency": "INR", "upi_link": true, "reference_id": "INV-1"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let make = |more: Value| {
        let (bench, body) = (&bench, wanted(more).to_string());
        async move {
            let path = format!("/razorpay{LINKS}");
            let (status, text) = bench.raw("POST", &path, &key, Some(body)).await.unwrap();
            (status, serde_json::from_str::<Value>(&text).unwrap())
        }
    };
    let (status, answer) = make(json!({"accept_partial": true})).await;
    assert_eq!(
        (status, description(&answer)),
        (400, "partial payment not supported in upi link")
    );
    let (status, link) = make(json!({})).await;
    assert_eq!((status, link["upi_link"].as_bool()), (200, Some(true)));
    let (status, code) = bench
        .control_refused(
            "customer/pay",
            json!({"link": link["id"], "method": "card"}),
        )
        .await;
    assert_eq!((status, code.as_str()), (409, "upi_only"));
    let paid = bench
        .control("customer/pay", json!({"link": link["id"]}))
        .await;
    assert_eq!(paid["status"], "captured");
}

#[tokio::test]
async fn unknown_urls_and_ids_get_the_documented_errors() {
    let bench = Bench::start().await;
    for (path, wanted) in [
        (
            "/v1/nothing",
            "The requested URL was not found on the server.",
        ),
        ("/v1/payments/1", "1 is not a valid id"),
        ("/v1/payments/pay_1", "The id provided does not exist"),
        ("/v1/refunds/1", "1 is not a valid id"),
        (
            "/v1/orders/order_1/payments",
            "The id provided does not exist",
        ),
    ] {
        let (status, answer) = bench.razorpay("GET", path, None).await;
        assert_eq!((status, description(&answer)), (400, wanted), "{path}");
    }
}

#[tokio::test]
async fn an_optimum_refund_may_turn_normal() {
    let bench = Bench::start().await;
    bench
        .register(json!({"refunds": "pending"}), json!({}))
        .await;
    let id = paid(&bench, "INV-1").await;
    let (_, refund) = bench
        .razorpay(
            "POST",
            &format!("/v1/payments/{id}/refund"),
            Some(json!({"speed": "optimum"})),
        )
        .await;
    let settle = format!("refunds/{}", refund["id"].as_str().unwrap());
    let refund = bench
        .control(&settle, json!({"status": "processed", "speed": "normal"}))
        .await;
    assert_eq!(refund["speed_processed"], "normal");
    bench.settle().await;
    assert_eq!(
        bench.receiver.events()[4..],
        ["refund.created", "refund.speed_changed", "refund.processed"]
    );
}

#[tokio::test]
async fn a_person_can_pay_on_the_page_and_money_can_come_twice() {
    let bench = Bench::start().await;
    let link = bench.link("INV-1").await;
    let id = link["id"].as_str().unwrap();
    let path = format!("/razorpay/pay/{id}");
    let (_, page) = bench.raw("GET", &path, &[], None).await.unwrap();
    assert!(page.contains("<button>"));
    let (_, page) = bench.raw("POST", &path, &[], None).await.unwrap();
    assert!(page.contains("Status: paid") && !page.contains("<button>"));

    let second = bench
        .control("customer/pay", json!({"link": id, "late": true}))
        .await;
    assert_eq!(second["amount"], 50000);
    let order = second["order_id"].as_str().unwrap();
    let (_, payments) = bench
        .razorpay("GET", &format!("/v1/orders/{order}/payments"), None)
        .await;
    assert_eq!(payments["count"], 2);
}

#[tokio::test]
async fn an_account_is_changed_by_the_fields_given() {
    let bench = Bench::start().await;
    bench
        .control(
            "accounts",
            json!({"razorpay": {"key_id": "rzp_test_shop", "events": ["payment_link.paid"]}}),
        )
        .await;
    let link = bench.link("INV-1").await;
    bench
        .control("customer/pay", json!({"link": link["id"]}))
        .await;
    bench.settle().await;
    assert_eq!(bench.receiver.events(), ["payment_link.paid"]);
}
