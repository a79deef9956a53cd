//! BillDesk, held to its documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use support::Bench;

const KEY: &str = "hmacDemoKeyForTests0000000000001";
const ORDERS: &str = "orders/create";
const TRANSACTIONS: &str = "transactions/create";
const LOOKUPS: &str = "transactions/get";
const REFUNDS: &str = "refunds/create";

fn sign(header: &Value, payload: &[u8], key: &str) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(payload)
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(input.as_bytes());
    format!("{input}.{}", encode(&mac.finalize().into_bytes()))
}

fn token(payload: &Value) -> String {
    let header = json!({"alg": "HS256", "clientid": "bdmerc1"});
    sign(&header, payload.to_string().as_bytes(), KEY)
}

fn opened(token: &str) -> Value {
    let parts: Vec<&str> = token.split('.').collect();
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&bytes(parts[0])).unwrap();
    assert_eq!(sign(&header, &bytes(parts[1]), KEY), token);
    serde_json::from_slice(&bytes(parts[1])).unwrap()
}

static TRACE: AtomicU32 = AtomicU32::new(0);

fn headers(trace: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/jose".into()),
        ("accept", "application/jose".into()),
        ("bd-traceid", trace.into()),
        ("bd-timestamp", "20261122053000".into()),
    ]
}

async fn post(
    bench: &Bench,
    path: &str,
    headers: &[(&'static str, String)],
    body: String,
) -> (u16, String) {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    bench
        .post(&format!("/billdesk/payments/ve1_2/{path}"), &headers, body)
        .await
}

/// A call as it should be; gives the status and what the answer's token says.
async fn ask(bench: &Bench, path: &str, payload: &Value) -> (u16, Value) {
    let trace = format!("t{}", TRACE.fetch_add(1, Ordering::Relaxed));
    let (status, text) = post(bench, path, &headers(&trace), token(payload)).await;
    (status, opened(&text))
}

async fn bench(changes: Value) -> Bench {
    let bench = Bench::start().await;
    let mut account = json!({
        "client_id": "bdmerc1", "merchant_id": "BDMERCID", "security": "hmac", "signing_key": KEY,
        "webhook_url": format!("{}/billdesk", bench.receiver.url),
    });
    account
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    bench
        .control("accounts", json!({"billdesk": account}))
        .await;
    bench
}

fn order(orderid: &str) -> Value {
    json!({
        "mercid": "BDMERCID", "orderid": orderid, "amount": "850.00", "order_date": "2026-11-22T05:30:00+05:30",
        "currency": "356", "ru": "https://shop.example/r/token", "itemcode": "DIRECT",
        "additional_info": {"additional_info7": "BM-1"},
        "device": {"init_channel": "internet", "ip": "203.0.113.7", "user_agent": "Till", "accept_header": "text/html"},
    })
}

fn intent(orderid: &str) -> Value {
    json!({
        "mercid": "BDMERCID", "orderid": orderid, "amount": "850.00", "currency": "356", "bankid": "ICW",
        "txn_process_type": "intent", "itemcode": "DIRECT", "payment_method_type": "upi", "wa_mc": "5411",
        "wa_vpa": "acme@hdfcbank", "wa_txnid": "BM-1", "wa_mercname": "Acme & Co", "additional_info": {},
        "device": {"init_channel": "app", "ip": "203.0.113.7", "user_agent": "Till"},
    })
}

fn code(answer: &Value) -> &str {
    answer["error_code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn whom_it_does_not_know_it_tells_in_plain_json() {
    let bench = bench(json!({})).await;
    let good = token(&order("A1"));
    let other = sign(
        &json!({"alg": "HS256", "clientid": "bdmerc1"}),
        b"{}",
        "wrong",
    );
    let none = sign(&json!({"alg": "none", "clientid": "bdmerc1"}), b"{}", KEY);
    let stranger = sign(&json!({"alg": "HS256", "clientid": "other"}), b"{}", KEY);
    let elsewhere = token(&json!({"mercid": "OTHER"}));
    let change = |name: &str, value: &str| {
        let mut headers = headers("one");
        headers.iter_mut().find(|(n, _)| *n == name).unwrap().1 = value.to_owned();
        headers
    };
    for (body, headers, status, wanted) in [
        (&other, headers("a1"), 401, "GNAUE0001"),
        (&none, headers("a2"), 401, "GNAUE0001"),
        (&stranger, headers("a3"), 401, "GNAUE0001"),
        (&"{}".to_owned(), headers("a4"), 401, "GNAUE0001"),
        (&elsewhere, headers("a5"), 403, "GNAUE0002"),
        (
            &good,
            change("bd-timestamp", "2026-11-22T05:30:00"),
            422,
            "GNIDE0001",
        ),
        (&good, change("bd-traceid", "with-dash"), 422, "GNIDE0002"),
        (
            &good,
            change("bd-traceid", &"x".repeat(36)),
            422,
            "GNIDE0002",
        ),
        (
            &good,
            change("content-type", "application/json"),
            422,
            "GNIDE0005",
        ),
        (&good, change("accept", "*/*"), 422, "GNIDE0005"),
    ] {
        let (http, text) = post(&bench, ORDERS, &headers, body.clone()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((http, code(&answer)), (status, wanted), "{text}");
    }
}

#[tokio::test]
async fn a_trace_id_serves_one_request_a_day() {
    let bench = bench(json!({})).await;
    let ask = async |orderid: &str| {
        post(&bench, ORDERS, &headers("same"), token(&order(orderid)))
            .await
            .0
    };
    assert_eq!(ask("A1").await, 200);
    assert_eq!(ask("A2").await, 409);
    bench
        .control("clock", json!({"advance_seconds": 86_399}))
        .await;
    assert_eq!(ask("A2").await, 409);
    bench.control("clock", json!({"advance_seconds": 1})).await;
    assert_eq!(ask("A2").await, 200);
}

#[tokio::test]
async fn orders_are_held_to_the_contract() {
    let bench = bench(json!({})).await;
    for (name, value, wanted) in [
        ("amount", json!("850"), "GNIDE0004"),
        ("amount", json!("850.0"), "GNIDE0004"),
        ("amount", json!("0.00"), "GNIDE0004"),
        ("amount", json!(850), "GNIDE0003"),
        ("currency", json!("INR"), "GNIDE0003"),
        ("orderid", json!("BM-1"), "ORDIE0001"),
        ("order_date", json!("2026-11-22"), "ORDIE0003"),
        ("ru", json!("shop"), "ORDIE0004"),
        ("ru", Value::Null, "GNIDE0003"),
        ("itemcode", Value::Null, "GNIDE0003"),
        ("colour", json!("red"), "GNIDE0003"),
        (
            "device",
            json!({"init_channel": "internet", "ip": "::1", "user_agent": "x"}),
            "DEVIE0001",
        ),
        (
            "additional_info",
            json!({"additional_info11": "x"}),
            "GNIDE0003",
        ),
    ] {
        let mut bad = order("A1");
        match value {
            Value::Null => bad.as_object_mut().unwrap().remove(name),
            value => bad.as_object_mut().unwrap().insert(name.to_owned(), value),
        };
        let (status, answer) = ask(&bench, ORDERS, &bad).await;
        assert_eq!((status, code(&answer)), (422, wanted), "{name}: {answer}");
    }
    assert_eq!(ask(&bench, ORDERS, &order("A1")).await.0, 200);
    let (status, answer) = ask(&bench, ORDERS, &order("A1")).await;
    assert_eq!((status, code(&answer)), (409, "ORDDE0001"));
    // Nobody has tried to pay it.
    let lookup = json!({"mercid": "BDMERCID", "orderid": "A1", "refund_details": true});
    assert_eq!(ask(&bench, LOOKUPS, &lookup).await.0, 404);
}

#[tokio::test]
async fn a_customer_pays_on_the_page_the_form_leads_to() {
    let bench = bench(json!({})).await;
    let (_, made) = ask(&bench, ORDERS, &order("A1")).await;
    let redirect = &made["links"][1];
    assert_eq!(redirect["rel"], "redirect");
    let path = redirect["href"]
        .as_str()
        .unwrap()
        .strip_prefix(&bench.sandbox.url())
        .unwrap()
        .to_owned();
    let given = |name: &str| redirect["parameters"][name].as_str().unwrap().to_owned();
    let (merchant, order_id, rdata) = (given("mercid"), given("bdorderid"), given("rdata"));
    let fields = [
        ("mercid", merchant.as_str()),
        ("bdorderid", &order_id),
        ("rdata", &rdata),
    ];
    let (status, page) = bench.post_form(&path, ("x", "y"), &fields).await;
    assert_eq!((status, page.contains("Rs. 850.00")), (200, true), "{page}");
    let forged = [fields[0], fields[1], ("rdata", "guess")];
    assert_eq!(bench.post_form(&path, ("x", "y"), &forged).await.0, 400);

    bench
        .control(
            "customer/fail",
            json!({"vendor": "billdesk", "reference_id": "BM-1"}),
        )
        .await;
    let paid = path.replace("embeddedsdk", "pay");
    let (_, page) = bench.post_form(&paid, ("x", "y"), &fields).await;
    let answer = page
        .split("name=\"transaction_response\" value=\"")
        .nth(1)
        .unwrap();
    let answer = opened(answer.split('"').next().unwrap());
    assert_eq!(
        (&answer["auth_status"], &answer["orderid"]),
        (&json!("0300"), &json!("A1"))
    );
    assert!(page.contains("action=\"https://shop.example/r/token\""));
    let (status, refused) = bench
        .control_refused("customer/pay", json!({"link": order_id}))
        .await;
    assert_eq!((status, refused.as_str()), (409, "already_paid"));

    bench.settle().await;
    let got = bench.receiver.got();
    let heard: Vec<Value> = got
        .iter()
        .map(|got| opened(std::str::from_utf8(&got.raw).unwrap()))
        .collect();
    assert_eq!(got[0].header("content-type"), "application/jose");
    let statuses: Vec<&Value> = heard.iter().map(|t| &t["auth_status"]).collect();
    assert_eq!(statuses, ["0399", "0300"]);
    assert_eq!(heard[1], answer);
    assert_eq!(heard[1]["additional_info"]["additional_info7"], "BM-1");
    // Of several attempts the successful one is shown.
    let lookup = json!({"mercid": "BDMERCID", "orderid": "A1"});
    assert_eq!(ask(&bench, LOOKUPS, &lookup).await.1["auth_status"], "0300");
}

#[tokio::test]
async fn webhooks_come_as_forms_too_and_can_be_forged() {
    let bench = bench(json!({"webhook_form": "form"})).await;
    ask(&bench, ORDERS, &order("A1")).await;
    bench
        .control(
            "customer/pay",
            json!({"vendor": "billdesk", "reference_id": "A1", "amount": 100, "surcharge": 50}),
        )
        .await;
    bench.settle().await;
    let text = String::from_utf8(bench.receiver.got().pop().unwrap().raw).unwrap();
    let told = opened(
        text.strip_prefix("orderid=A1&transaction_response=")
            .unwrap(),
    );
    assert_eq!(
        (&told["amount"], &told["charge_amount"]),
        (&json!("1.00"), &json!("1.50"))
    );

    let send = |more: Value| {
        let mut request = json!({"vendor": "billdesk", "body": {"objectid": "transaction"}});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        request
    };
    let last = || String::from_utf8(bench.receiver.got().pop().unwrap().raw).unwrap();
    bench.control("webhooks/send", send(json!({}))).await;
    assert_eq!(opened(&last())["objectid"], "transaction");
    bench
        .control("webhooks/send", send(json!({"signature": "AAAA"})))
        .await;
    assert!(last().ends_with(".AAAA"));
    bench
        .control("webhooks/send", send(json!({"signature": "none"})))
        .await;
    assert_eq!(last(), "{\"objectid\":\"transaction\"}");
}

#[tokio::test]
async fn intents_are_paid_once_and_may_come_late() {
    let bench = bench(json!({"vpa": "acme@hdfcbank"})).await;
    for (name, value, wanted) in [
        ("wa_vpa", json!("evil@hdfcbank"), "TRNIE0002"),
        ("wa_txnid", json!("x".repeat(36)), "TRNIE0003"),
        ("wa_mc", Value::Null, "GNIDE0003"),
        ("txn_process_type", json!("collect"), "GNIDE0003"),
        ("device", Value::Null, "GNIDE0003"),
    ] {
        let mut bad = intent("A1");
        match value {
            Value::Null => bad.as_object_mut().unwrap().remove(name),
            value => bad.as_object_mut().unwrap().insert(name.to_owned(), value),
        };
        let (status, answer) = ask(&bench, TRANSACTIONS, &bad).await;
        assert_eq!((status, code(&answer)), (422, wanted), "{name}: {answer}");
    }
    let (status, made) = ask(&bench, TRANSACTIONS, &intent("A1")).await;
    assert_eq!((status, &made["auth_status"]), (200, &json!("0002")));
    assert_eq!(made["wa_txnid"], "BM-1");
    let link = STANDARD.decode(made["intent"].as_str().unwrap()).unwrap();
    let link = String::from_utf8(link).unwrap();
    assert!(
        link.starts_with("upi://pay?pa=acme@hdfcbank&pn=Acme%20%26%20Co&mc=5411&tr=XHDX"),
        "{link}"
    );
    assert!(
        link.contains("&am=850.00&") && link.ends_with("&cu=INR"),
        "{link}"
    );

    // What WhatsApp passes on is enough to pay.
    let narrow = link.split("&tn=").next().unwrap();
    bench
        .control("customer/fail", json!({"link": narrow}))
        .await;
    let (_, refused) = bench
        .control_refused("customer/pay", json!({"link": narrow}))
        .await;
    assert_eq!(refused, "not_payable");
    let done = bench
        .control("customer/pay", json!({"link": narrow, "late": true}))
        .await;
    assert_eq!(done["payment_id"], made["transactionid"]);
    let lookup = json!({"mercid": "BDMERCID", "transactionid": made["transactionid"]});
    let (_, found) = ask(&bench, LOOKUPS, &lookup).await;
    assert_eq!(
        (&found["auth_status"], &found["intent"]),
        (&json!("0300"), &made["intent"])
    );
    bench
        .control(
            "accounts",
            json!({"billdesk": {"client_id": "bdmerc1", "shows_intents": false}}),
        )
        .await;
    assert_eq!(ask(&bench, LOOKUPS, &lookup).await.1.get("intent"), None);
}

#[tokio::test]
async fn refunds_are_held_to_the_contract() {
    let bench = bench(json!({})).await;
    ask(&bench, ORDERS, &order("A1")).await;
    let paid = bench
        .control(
            "customer/pay",
            json!({"vendor": "billdesk", "reference_id": "A1"}),
        )
        .await;
    let lookup = json!({"mercid": "BDMERCID", "orderid": "A1", "refund_details": true});
    let (_, transaction) = ask(&bench, LOOKUPS, &lookup).await;
    assert_eq!(transaction["refund_info"], json!([]));
    let refund = |name: &str, amount: &str| {
        json!({
            "mercid": "BDMERCID", "orderid": "A1", "transactionid": paid["payment_id"],
            "transaction_date": transaction["transaction_date"], "txn_amount": "850.00", "refund_amount": amount,
            "currency": "356", "merc_refund_ref_no": name,
        })
    };
    for (name, value, status, wanted) in [
        ("transactionid", json!("X1"), 404, "TRNNF0001"),
        ("orderid", json!("A2"), 422, "RFDIE0002"),
        (
            "transaction_date",
            json!("2020-01-01T00:00:00+05:30"),
            422,
            "RFDIE0002",
        ),
        ("txn_amount", json!("849.00"), 422, "RFDIE0002"),
        ("refund_amount", json!("850.01"), 422, "RFDIE0004"),
        ("merc_refund_ref_no", json!("a b"), 422, "RFDIE0001"),
    ] {
        let mut bad = refund("r0", "850.00");
        bad[name] = value;
        let (http, answer) = ask(&bench, REFUNDS, &bad).await;
        assert_eq!((http, code(&answer)), (status, wanted), "{name}: {answer}");
    }
    let (_, part) = ask(&bench, REFUNDS, &refund("r1", "100.00")).await;
    assert_eq!(part["refund_status"], "0799");
    let (status, again) = ask(&bench, REFUNDS, &refund("r1", "100.00")).await;
    assert_eq!((status, code(&again)), (409, "RFDDE0001"));
    let (_, too_much) = ask(&bench, REFUNDS, &refund("r2", "750.01")).await;
    assert_eq!(code(&too_much), "RFDIE0004");
    for key in [
        json!({"merc_refund_ref_no": "r1"}),
        json!({"refundid": part["refundid"]}),
    ] {
        let mut asked = json!({"mercid": "BDMERCID"});
        asked
            .as_object_mut()
            .unwrap()
            .extend(key.as_object().unwrap().clone());
        assert_eq!(ask(&bench, "refunds/get", &asked).await.1, part);
    }
    let unknown = json!({"mercid": "BDMERCID", "merc_refund_ref_no": "r9"});
    assert_eq!(ask(&bench, "refunds/get", &unknown).await.0, 404);
    assert_eq!(
        ask(&bench, LOOKUPS, &lookup).await.1["refund_info"],
        json!([part])
    );
    bench
        .control("clock", json!({"advance_seconds": 181 * 86_400}))
        .await;
    let (_, old) = ask(&bench, REFUNDS, &refund("r3", "1.00")).await;
    assert_eq!(code(&old), "RFDIE0005");
}
