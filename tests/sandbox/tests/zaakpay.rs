//! Zaakpay, held to its documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use support::Bench;

const MERCHANT: &str = "fb2016ffd3a64b2994a6289dc2b671a4";
const SECRET: &str = "0678056d96914a8583fb518caf42828a";
const CHECKOUT: &str = "/zaakpay/api/paymentTransact/V8";

fn hex_hmac(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

fn vectors() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("vectors/zaakpay.json")).unwrap();
    vectors["vectors"].as_array().unwrap().clone()
}

async fn bench(changes: Value) -> Bench {
    let bench = Bench::start().await;
    bench.zaakpay_account(changes).await;
    bench
}

async fn form(bench: &Bench, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    bench.post_form(path, ("accept", "*/*"), fields).await
}

/// Posts the checkout form; the fields stand in the sequence they are signed in.
async fn checkout(bench: &Bench, fields: &[(&str, &str)]) -> (u16, String) {
    let text: String = fields.iter().map(|(n, v)| format!("{n}={v}&")).collect();
    let checksum = hex_hmac(SECRET, &text);
    let mut all = fields.to_vec();
    all.push(("checksum", &checksum));
    form(bench, CHECKOUT, &all).await
}

fn fields<'a>(order: &'a str, amount: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("amount", amount),
        ("buyerEmail", "bills@shop.example"),
        ("currency", "INR"),
        ("merchantIdentifier", MERCHANT),
        ("mode", "0"),
        ("orderId", order),
        ("productDescription", "Acme & Sons"),
        ("returnUrl", "https://shop.example/r/1?a=b&c"),
    ]
}

async fn call(bench: &Bench, path: &str, data: &Value) -> Value {
    let text = data.to_string();
    let sent = [
        ("data", text.as_str()),
        ("checksum", &hex_hmac(SECRET, &text)),
    ];
    let (status, answer) = form(bench, path, &sent).await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap_or(Value::from(answer))
}

async fn status(bench: &Bench, order: &str, refund: Option<&str>) -> Value {
    let mut data =
        json!({"merchantIdentifier": MERCHANT, "mode": "0", "orderDetail": {"orderId": order}});
    if let Some(name) = refund {
        data["refundDetail"] = json!({"merchantRefId": name});
    }
    let answer = call(bench, "/zaakpay/checkTxn?v=5", &data).await;
    assert_eq!(answer["merchantIdentifier"], MERCHANT);
    answer["orders"][0].clone()
}

fn codes(order: &Value) -> (&str, &str) {
    (
        order["responseCode"].as_str().unwrap(),
        order["txnStatus"].as_str().unwrap(),
    )
}

fn update(order: &str, changes: Value) -> Value {
    let mut data = json!({
        "merchantIdentifier": MERCHANT, "orderDetail": {"orderId": order, "amount": "10000"}, "mode": "0",
        "updateDesired": "22", "updateReason": "One bag was torn", "merchantRefId": "r1",
    });
    data.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    data
}

async fn updated(bench: &Bench, order: &str, changes: Value) -> String {
    let answer = call(bench, "/zaakpay/updateTxn", &update(order, changes)).await;
    answer["responseCode"].as_str().unwrap().to_owned()
}

async fn paid(changes: Value) -> Bench {
    let bench = bench(changes).await;
    let (http, page) = checkout(&bench, &fields("A1", "85000")).await;
    assert_eq!(http, 200, "{page}");
    act(&bench, "pay", json!({})).await;
    bench
}

async fn act(bench: &Bench, act: &str, more: Value) -> Value {
    let mut request = json!({"vendor": "zaakpay", "reference_id": "A1"});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let done = bench.control(&format!("customer/{act}"), request).await;
    bench.settle().await;
    done
}

fn decoded(raw: &[u8]) -> Vec<(String, String)> {
    String::from_utf8(raw.to_vec())
        .unwrap()
        .split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            let value = value.replace('+', " ");
            let value = percent_encoding::percent_decode_str(&value)
                .decode_utf8()
                .unwrap();
            (name.to_owned(), value.into_owned())
        })
        .collect()
}

#[tokio::test]
async fn checksums_are_those_of_the_vendor_and_its_kit() {
    let mut seen = 0;
    for vector in vectors() {
        let text = |name: &str| vector[name].as_str().unwrap().to_owned();
        let bench = bench(json!({"secret_key": text("secret")})).await;
        let expected = text("expected_signature");
        match vector["kind"].as_str().unwrap() {
            "webhook" => {
                let data = json!({"vendor": "zaakpay", "raw_body": text("txnData")});
                bench.control("webhooks/send", data).await;
                let got = bench.receiver.got().pop().unwrap();
                let [(_, data), (_, checksum)] = &decoded(&got.raw)[..] else {
                    panic!("{got:?}");
                };
                assert_eq!(
                    (data.as_str(), checksum),
                    (text("txnData").as_str(), &expected)
                );
                assert_eq!(
                    got.header("content-type"),
                    "application/x-www-form-urlencoded"
                );
            }
            "json_api_checksum" => {
                let data = text("raw_body");
                for (checksum, code) in [(expected.as_str(), "190"), (&expected[1..], "180")] {
                    let sent = [("data", data.as_str()), ("checksum", checksum)];
                    let (_, answer) = form(&bench, "/zaakpay/updateTxn", &sent).await;
                    assert!(
                        answer.contains(&format!("\"responseCode\":\"{code}\"")),
                        "{answer}"
                    );
                }
            }
            "transact_request_checksum" => {
                bench
                    .zaakpay_account(json!({"merchant_identifier": vector["params"]["merchantIdentifier"], "secret_key": text("secret")}))
                    .await;
                let params = vector["params"].as_object().unwrap();
                let mut sent: Vec<(&str, &str)> = params
                    .iter()
                    .map(|(n, v)| (n.as_str(), v.as_str().unwrap()))
                    .collect();
                sent.push(("checksum", &expected));
                let (status, page) = form(&bench, CHECKOUT, &sent).await;
                assert_eq!(status, 200, "{page}");
            }
            // What the page posts back has the same names; the sequence is the vector's.
            "redirect_response" => {
                if vector["valid"] != true {
                    continue;
                }
                let bench = self::bench(json!({})).await;
                let page = checkout(&bench, &fields("A1", "85000")).await.1;
                let form = back(&bench, &page, "pay").await;
                let signed = text("string_to_sign");
                let names: Vec<&str> = signed
                    .split_terminator('&')
                    .map(|pair| pair.split_once('=').unwrap().0)
                    .collect();
                let value = |name: &str| form.iter().find(|(n, _)| n == name).unwrap().1.clone();
                let text: String = names.iter().map(|n| format!("{n}={}&", value(n))).collect();
                assert_eq!(value("checksum"), hex_hmac(SECRET, &text));
                assert_eq!(form.len(), names.len() + 1);
                assert_eq!(
                    (value("responseCode").as_str(), value("orderId").as_str()),
                    ("100", "A1")
                );
            }
            other => panic!("{other}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// Presses a button of the checkout page; gives the form that goes back to the shop.
async fn back(bench: &Bench, page: &str, act: &str) -> Vec<(String, String)> {
    let start = page.find("/zaakpay/checkout/").unwrap();
    let id = page[start..].split('/').nth(3).unwrap();
    let (_, answer) = form(bench, &format!("/zaakpay/checkout/{id}/{act}"), &[]).await;
    assert!(
        answer.contains("action=\"https://shop.example/r/1?a=b&amp;c\""),
        "{answer}"
    );
    answer
        .split("name=\"")
        .skip(1)
        .map(|rest| {
            let (name, rest) = rest.split_once("\" value=\"").unwrap();
            let value = rest.split('"').next().unwrap().replace("&amp;", "&");
            (name.to_owned(), value)
        })
        .collect()
}

#[tokio::test]
async fn a_form_that_breaks_a_rule_is_refused() {
    let bench = bench(json!({})).await;
    for (name, value, code) in [
        ("merchantIdentifier", "", "110"),
        (
            "merchantIdentifier",
            "b19e8f103bce406cbd3476431b6b7973",
            "111",
        ),
        ("orderId", "", "129"),
        ("orderId", "BM345A-12", "130"),
        ("orderId", "123456789012345678901", "130"),
        ("amount", "99", "107"),
        ("amount", "10000001", "107"),
        ("amount", "850.00", "107"),
        ("amount", "", "107"),
        ("currency", "356", "109"),
        ("mode", "2", "156"),
        ("buyerEmail", "", "133"),
        ("buyerEmail", "shop", "134"),
    ] {
        let mut all = fields("A1", "85000");
        for field in &mut all {
            if field.0 == name {
                field.1 = value;
            }
        }
        all.retain(|(_, value)| !value.is_empty());
        let (status, page) = checkout(&bench, &all).await;
        assert_eq!(status, 400);
        assert!(
            page.contains(&format!("<p>{code}: ")),
            "{name} {value}: {page}"
        );
    }
    let mut unsigned = fields("A1", "85000");
    let (_, page) = form(&bench, CHECKOUT, &unsigned).await;
    assert!(page.contains("<p>189: "), "{page}");
    unsigned.push(("checksum", "0"));
    let (_, page) = form(&bench, CHECKOUT, &unsigned).await;
    assert!(page.contains("<p>180: "), "{page}");
    // In another sequence than the documented one.
    let mut turned = fields("A1", "85000");
    turned.swap(0, 1);
    let (_, page) = checkout(&bench, &turned).await;
    assert!(page.contains("<p>180: "), "{page}");
    for order in ["A1", "12345678901234567890"] {
        assert_eq!(checkout(&bench, &fields(order, "100")).await.0, 200);
    }
}

#[tokio::test]
async fn a_payment_is_told_by_webhook_and_status() {
    let bench = bench(json!({})).await;
    assert_eq!(codes(&status(&bench, "A1", None).await), ("205", "1"));
    checkout(&bench, &fields("A1", "85000")).await;
    assert_eq!(codes(&status(&bench, "A1", None).await), ("207", "2"));
    let done = act(&bench, "pay", json!({"method": "card"})).await;
    let order = status(&bench, "A1", None).await;
    assert_eq!(codes(&order), ("228", "0"));
    assert_eq!(order["orderDetail"]["txnId"], done["payment_id"]);
    assert_eq!(order["orderDetail"]["amount"], "85000");
    assert_eq!(order["paymentInstrument"]["paymentMode"], "Credit Card");

    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(
        (got.path.as_str(), got.query.as_str()),
        ("/zaakpay", "realtime=true")
    );
    let [(_, text), (_, checksum)] = &decoded(&got.raw)[..] else {
        panic!("{got:?}");
    };
    assert_eq!(*checksum, hex_hmac(SECRET, text));
    assert!(
        text.contains("\\/") && !text.replace("\\/", "").contains('/'),
        "{text}"
    );
    let data: Value = serde_json::from_str(text).unwrap();
    let txn = &data["txns"][0];
    assert_eq!(data["merchantIdentifier"], MERCHANT);
    assert_eq!(
        (&txn["responseCode"], &txn["amount"]),
        (&json!("100"), &json!("85000"))
    );
    assert_eq!(txn["pgTransId"], done["payment_id"]);

    let (http, code) = bench
        .control_refused(
            "customer/pay",
            json!({"vendor": "zaakpay", "reference_id": "A1"}),
        )
        .await;
    assert_eq!((http, code.as_str()), (409, "already_paid"));
    assert_eq!(checkout(&bench, &fields("A1", "85000")).await.0, 400);
}

#[tokio::test]
async fn both_json_bodies_of_the_prose_can_be_had() {
    for (kind, is_text) in [("json", false), ("json_text", true)] {
        let bench = paid(json!({"webhook_body": kind})).await;
        let got = bench.receiver.got().pop().unwrap();
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.body["txnData"].is_string(), is_text);
        let text = if is_text {
            got.body["txnData"].as_str().unwrap().to_owned()
        } else {
            let raw = String::from_utf8(got.raw).unwrap();
            let raw = raw.strip_prefix("{\"txnData\":").unwrap();
            raw.split_once(",\"checksum\"").unwrap().0.to_owned()
        };
        assert_eq!(got.body["checksum"], hex_hmac(SECRET, &text));
    }
}

#[tokio::test]
async fn a_declined_payment_can_be_paid_by_reconciliation() {
    let bench = bench(json!({})).await;
    checkout(&bench, &fields("A1", "85000")).await;
    act(&bench, "fail", json!({})).await;
    assert_eq!(codes(&status(&bench, "A1", None).await), ("400", "1"));
    let (_, text) = decoded(&bench.receiver.got()[0].raw).remove(0);
    assert!(text.contains("\"responseCode\":\"400\""), "{text}");

    act(&bench, "pay", json!({"late": true})).await;
    assert_eq!(codes(&status(&bench, "A1", None).await), ("228", "0"));
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(got.query, "realtime=false");
    let (_, text) = decoded(&got.raw).remove(0);
    let data: Value = serde_json::from_str(&text).unwrap();
    let txn = data["txns"][0].as_object().unwrap();
    let names: Vec<&str> = txn.keys().map(String::as_str).collect();
    assert_eq!(names, ["amount", "orderid", "txnDate"]);
    assert_eq!(txn["amount"], 85_000);
}

#[tokio::test]
async fn an_order_number_is_taken_again_until_it_is_paid() {
    for (rule, expected) in [("unpaid", 200), ("never", 400)] {
        let bench = bench(json!({"repeat_order_id": rule})).await;
        checkout(&bench, &fields("A1", "85000")).await;
        act(&bench, "cancel", json!({})).await;
        let (status, page) = checkout(&bench, &fields("A1", "85000")).await;
        assert_eq!(status, expected, "{page}");
    }
}

#[tokio::test]
async fn what_is_authorised_is_captured_or_canceled() {
    for (desired, code, after) in [("7", "242", "228"), ("8", "243", "213")] {
        let bench = bench(json!({})).await;
        checkout(&bench, &fields("A1", "85000")).await;
        act(&bench, "pay", json!({"authorize_only": true})).await;
        assert_eq!(codes(&status(&bench, "A1", None).await), ("209", "2"));
        assert!(bench.receiver.got().is_empty());
        assert_eq!(updated(&bench, "A1", json!({})).await, "201");
        assert_eq!(
            updated(&bench, "A1", json!({"updateDesired": desired})).await,
            code
        );
        assert_eq!(codes(&status(&bench, "A1", None).await).0, after);
        let again = updated(&bench, "A1", json!({"updateDesired": desired})).await;
        assert!(["229", "203"].contains(&again.as_str()), "{again}");
    }
}

#[tokio::test]
async fn refunds_have_the_documented_codes() {
    let bench = paid(json!({})).await;
    for (changes, code) in [
        (json!({"updateDesired": ""}), "184"),
        (json!({"updateDesired": "9"}), "185"),
        (json!({"updateReason": ""}), "186"),
        (json!({"updateReason": "torn"}), "187"),
        (json!({"updateReason": "One bag-was torn"}), "187"),
        (json!({"updateReason": "x".repeat(31)}), "187"),
        (json!({"orderDetail": {"orderId": "A2"}}), "190"),
        (
            json!({"orderDetail": {"orderId": "A1", "amount": "85001"}}),
            "201",
        ),
        (json!({"mode": "1"}), "156"),
        (json!({"colour": "red"}), "109"),
        (json!({"merchantIdentifier": "x"}), "111"),
        (json!({}), "245"),
        (json!({}), "201"),
        (
            json!({"merchantRefId": "r2", "orderDetail": {"orderId": "A1", "amount": "75001"}}),
            "201",
        ),
        (
            json!({"merchantRefId": "r2", "orderDetail": {"orderId": "A1", "amount": "75000"}}),
            "245",
        ),
        (json!({"merchantRefId": "r3", "updateDesired": "14"}), "201"),
    ] {
        assert_eq!(
            updated(&bench, "A1", changes.clone()).await,
            code,
            "{changes}"
        );
    }
    let order = status(&bench, "A1", Some("r2")).await;
    assert_eq!(codes(&order), ("236", "3"));
    assert_eq!(order["refundDetails"].as_array().unwrap().len(), 1);
    assert_eq!(order["refundDetails"][0]["merchantRefId"], "r2");
    assert_eq!(
        status(&bench, "A1", None).await["refundDetails"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        status(&bench, "A1", Some("r9")).await.get("refundDetails"),
        None
    );
}

#[tokio::test]
async fn refunds_end_as_the_account_says() {
    let full = json!({"updateDesired": "14", "orderDetail": {"orderId": "A1"}});
    let bench = paid(json!({"refunds": "pending"})).await;
    assert_eq!(updated(&bench, "A1", full.clone()).await, "230");
    assert_eq!(updated(&bench, "A1", full.clone()).await, "20");
    assert_eq!(codes(&status(&bench, "A1", None).await), ("230", "3"));
    bench
        .control("refunds/r1", json!({"status": "processed"}))
        .await;
    assert_eq!(codes(&status(&bench, "A1", None).await), ("236", "3"));
    assert_eq!(updated(&bench, "A1", full.clone()).await, "201");
    bench
        .control_refused("refunds/r1", json!({"status": "failed"}))
        .await;

    let bench = paid(json!({"refunds": "scheduled", "refunds_named": false})).await;
    assert_eq!(updated(&bench, "A1", json!({})).await, "19");
    assert_eq!(updated(&bench, "A1", json!({})).await, "21");
    assert_eq!(codes(&status(&bench, "A1", Some("r1")).await), ("228", "0"));
    bench
        .control("refunds/r1", json!({"status": "processed"}))
        .await;
    let order = status(&bench, "A1", Some("r1")).await;
    assert_eq!(codes(&order), ("251", "4"));
    assert_eq!(order["refundDetails"][0].get("merchantRefId"), None);

    let bench = paid(json!({"refunds": "failed"})).await;
    assert_eq!(updated(&bench, "A1", json!({})).await, "245");
    assert_eq!(codes(&status(&bench, "A1", Some("r1")).await), ("201", "1"));
    assert_eq!(codes(&status(&bench, "A1", None).await), ("228", "0"));

    let bench = paid(json!({"settled": true})).await;
    assert_eq!(updated(&bench, "A1", full.clone()).await, "844");
    let bench = paid(json!({"xml": true})).await;
    let answer = call(&bench, "/zaakpay/updateTxn", &update("A1", full.clone())).await;
    assert!(
        answer
            .as_str()
            .unwrap()
            .contains("<responsecode>230</responsecode>"),
        "{answer}"
    );
    let bench = paid(json!({})).await;
    bench
        .control("clock", json!({"advance_seconds": 185 * 86_400}))
        .await;
    assert_eq!(updated(&bench, "A1", full).await, "846");
}

#[tokio::test]
async fn a_question_that_is_wrong_is_told_so() {
    let bench = paid(json!({})).await;
    let good =
        json!({"merchantIdentifier": MERCHANT, "mode": "0", "orderDetail": {"orderId": "A1"}});
    for (pointer, value, code) in [
        ("mode", json!("1"), "156"),
        ("mode", Value::Null, "155"),
        ("orderDetail", json!({}), "129"),
        ("orderDetail", json!({"orderId": ""}), "129"),
        ("merchantIdentifier", json!(""), "111"),
        ("version", json!("5"), "109"),
    ] {
        let mut data = good.clone();
        match value.clone() {
            Value::Null => data.as_object_mut().unwrap().remove(pointer),
            value => data
                .as_object_mut()
                .unwrap()
                .insert(pointer.to_owned(), value),
        };
        let answer = call(&bench, "/zaakpay/checkTxn?v=5", &data).await;
        assert_eq!(answer["responseCode"], code, "{pointer} {value}");
        assert_eq!(answer["success"], false);
    }
    assert_eq!(
        call(&bench, "/zaakpay/checkTxn", &good).await["responseCode"],
        "109"
    );
    let text = good.to_string();
    // With the prefix that the page prints, or none at all.
    let prefixed = hex_hmac(SECRET, &format!("data={text}"));
    for (checksum, code) in [(prefixed.as_str(), "180"), ("", "189")] {
        let sent = [("data", text.as_str()), ("checksum", checksum)];
        let (_, answer) = form(&bench, "/zaakpay/checkTxn?v=5", &sent).await;
        assert!(
            answer.contains(&format!("\"responseCode\":\"{code}\"")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_webhook_is_repeated_until_it_is_thanked_for() {
    let bench = bench(json!({})).await;
    bench.receiver.answer_with(&[500, 401]);
    checkout(&bench, &fields("A1", "85000")).await;
    act(&bench, "pay", json!({})).await;
    while bench.receiver.got().len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let got = bench.receiver.got();
    assert!(got.iter().all(|one| one.raw == got[0].raw));

    // A 200 alone is not enough.
    let url = format!("{}/curt", bench.receiver.url);
    bench.zaakpay_account(json!({"webhook_url": url})).await;
    checkout(&bench, &fields("A2", "100")).await;
    let pay = json!({"vendor": "zaakpay", "reference_id": "A2"});
    bench.control("customer/pay", pay).await;
    while bench.receiver.got().len() < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let hooks = bench.look("webhooks?reference_id=A2").await;
    let attempt = &hooks["webhooks"][0]["attempts"][0];
    assert_eq!(attempt["status"], 200);
    assert_eq!(attempt["error"], "the body is not SUCCESS");
}
