//! PayU, held to its documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use support::Bench;

const KEY: &str = "gtKFFx";
const SALT: &str = "saltDemo0001eCwWELxi";
const LINK: &str = "/payu/payment-links";

fn sha512(text: &str) -> String {
    hex::encode(Sha512::digest(text))
}

async fn start(changes: Value) -> Bench {
    let bench = Bench::start().await;
    let mut account = json!({
        "key": KEY, "salt": SALT, "client_id": "client", "client_secret": "secret", "merchant_id": "8237550",
        "webhook_url": format!("{}/payu", bench.receiver.url),
    });
    account
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    bench.control("accounts", json!({"payu": account})).await;
    bench
}

async fn ask_token(bench: &Bench, changes: &[(&str, &str)]) -> (u16, Value) {
    let mut fields = vec![
        ("client_id", "client"),
        ("client_secret", "secret"),
        ("grant_type", "client_credentials"),
        (
            "scope",
            "create_payment_links update_payment_links read_payment_links",
        ),
    ];
    for (name, value) in changes {
        fields.retain(|(n, _)| n != name);
        fields.push((name, value));
    }
    let (status, text) = bench
        .post_form("/payu/oauth/token", ("accept", "application/json"), &fields)
        .await;
    (status, serde_json::from_str(&text).unwrap())
}

async fn token(bench: &Bench) -> String {
    let (status, answer) = ask_token(bench, &[]).await;
    assert_eq!(status, 200, "{answer}");
    format!("Bearer {}", answer["access_token"].as_str().unwrap())
}

async fn call(
    bench: &Bench,
    token: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let headers = [("authorization", token), ("merchantId", "8237550")];
    let (status, text) = bench
        .raw(
            method,
            &format!("{LINK}{path}"),
            &headers,
            body.map(|b| b.to_string()),
        )
        .await
        .unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

async fn command(bench: &Bench, command: &str, vars: &[&str]) -> Value {
    let hash = sha512(&format!("{KEY}|{command}|{}|{SALT}", vars[0]));
    let mut fields = vec![("key", KEY), ("command", command), ("hash", &hash)];
    fields.extend(
        ["var1", "var2", "var3"]
            .into_iter()
            .zip(vars.iter().copied()),
    );
    let (status, text) = bench
        .post_form(
            "/payu/merchant/postservice.php?form=2",
            ("accept", "*/*"),
            &fields,
        )
        .await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A link for 840.50 rupees, changed.
fn wish(changes: &Value) -> Value {
    let mut wish = json!({
        "subAmount": 840.5, "description": "Bill", "source": "API", "invoiceNumber": "BM345A12",
        "udf": {"udf1": "BM345A-12", "udf2": "till 3"}, "customer": {"name": "Pallavi", "phone": "9876543210"},
        "successURL": "https://shop.example/r", "maxPaymentsAllowed": 1,
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            wish.as_object_mut().unwrap().remove(name);
        } else {
            wish[name] = value.clone();
        }
    }
    wish
}

async fn link(bench: &Bench, changes: &Value) -> Value {
    let token = token(bench).await;
    let (status, answer) = call(bench, &token, "POST", "", Some(wish(changes))).await;
    assert_eq!((status, &answer["status"]), (200, &json!(0)), "{answer}");
    answer["result"].clone()
}

/// The form a webhook brought.
fn form(raw: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(raw.to_vec()).unwrap();
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    text.split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter()
        .find(|(n, _)| n == name)
        .map_or("", |(_, value)| value)
}

#[tokio::test]
async fn webhook_hashes_are_those_of_the_sdk() {
    let bench = start(json!({})).await;
    let vectors: Value = serde_json::from_str(include_str!("vectors/payu.json")).unwrap();
    let mut checked = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        if vector["kind"] != "webhook" {
            continue;
        }
        let raw = vector["raw_body"].as_str().unwrap();
        let (unsigned, _) = raw.rsplit_once("&hash=").unwrap();
        bench
            .control(
                "webhooks/send",
                json!({"vendor": "payu", "raw_body": unsigned}),
            )
            .await;
        let got = bench.receiver.got().pop().unwrap();
        let right = vector["expected_signature"].as_str().unwrap();
        assert_eq!(got.raw, format!("{unsigned}&hash={right}").as_bytes());
        assert_eq!(
            got.header("content-type"),
            "application/x-www-form-urlencoded"
        );
        // What has a hash goes out as it is.
        bench
            .control("webhooks/send", json!({"vendor": "payu", "raw_body": raw}))
            .await;
        assert_eq!(bench.receiver.got().pop().unwrap().raw, raw.as_bytes());
        checked += 1;
    }
    assert_eq!(checked, 8);
    let callback = json!({"vendor": "payu", "body": {"action": "refund", "key": KEY}});
    bench.control("webhooks/send", callback).await;
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.body["action"], "refund");
    let fields = json!({"vendor": "payu", "body": {"status": "success", "amount": "1.00"}, "signature": "00"});
    bench.control("webhooks/send", fields).await;
    let raw = bench.receiver.got().pop().unwrap().raw;
    assert_eq!(field(&form(&raw), "hash"), "00");
}

#[tokio::test]
async fn a_token_has_a_client_a_scope_and_an_end() {
    let bench = start(json!({"token_life": 600})).await;
    for (changes, status) in [
        ([("client_secret", "wrong")], 401),
        ([("client_id", "")], 401),
        ([("grant_type", "password")], 400),
        ([("scope", "payouts")], 400),
        ([("scope", "")], 400),
    ] {
        let (got, answer) = ask_token(&bench, &changes).await;
        assert_eq!(got, status, "{changes:?}: {answer}");
    }
    let (_, answer) = ask_token(&bench, &[("scope", "read_payment_links")]).await;
    assert_eq!(answer["expires_in"], 600);
    let reader = format!("Bearer {}", answer["access_token"].as_str().unwrap());
    assert_eq!(
        call(&bench, &reader, "POST", "", Some(wish(&json!({}))))
            .await
            .0,
        403
    );
    let (status, answer) = call(&bench, &reader, "GET", "/NONE", None).await;
    assert_eq!(
        (status, &answer["message"]),
        (200, &json!("paymentLink not found"))
    );
    assert_eq!(call(&bench, "Bearer x", "GET", "/NONE", None).await.0, 401);
    let (status, _) = bench
        .raw(
            "GET",
            &format!("{LINK}/NONE"),
            &[("authorization", reader.as_str())],
            None,
        )
        .await
        .unwrap();
    assert_eq!(status, 403, "without the header merchantId");
    bench
        .control("clock", json!({"advance_seconds": 600}))
        .await;
    assert_eq!(call(&bench, &reader, "GET", "/NONE", None).await.0, 401);
}

#[tokio::test]
async fn a_link_breaking_any_rule_is_refused() {
    let bench = start(json!({"refusal_status": 400})).await;
    let token = token(&bench).await;
    for (changes, why) in [
        (json!({"subAmount": null}), "subAmount"),
        (json!({"subAmount": "840.50"}), "subAmount"),
        (json!({"subAmount": 0.99}), "subAmount"),
        (json!({"subAmount": 1.001}), "subAmount"),
        (json!({"description": ""}), "description"),
        (json!({"source": "app"}), "source"),
        (json!({"currency": "USD"}), "currency"),
        (
            json!({"invoiceNumber": "BM345A-12"}),
            "invoiceNumber must be alphanumeric",
        ),
        (
            json!({"expiryDate": "2020-01-01 00:00:00"}),
            "expiry cannot be less than the current date",
        ),
        (json!({"expiryDate": "2030-01-01T00:00:00Z"}), "expiryDate"),
        (json!({"udf": {"udf6": "x"}}), "udf.udf6"),
        (json!({"udf": {"udf1": "x".repeat(256)}}), "udf.udf1"),
        (json!({"customer": {"phone": 5}}), "customer.phone"),
        (
            json!({"isPartialPaymentAllowed": true}),
            "isPartialPaymentAllowed",
        ),
        (json!({"colour": "red"}), "colour"),
    ] {
        let (status, answer) = call(&bench, &token, "POST", "", Some(wish(&changes))).await;
        assert_eq!((status, &answer["status"]), (400, &json!(-1)), "{changes}");
        let message = answer["message"].as_str().unwrap().replace(": ", " ");
        assert!(message.contains(why), "{message} has no {why}");
    }
}

#[tokio::test]
async fn a_link_is_made_once_and_shown() {
    let bench = start(json!({})).await;
    let made = link(&bench, &json!({"expiryDate": "2030-01-01 10:00:00"})).await;
    assert_eq!(made["totalAmount"].to_string(), "840.5");
    assert_eq!(made["expiryDate"], "2030-01-01 10:00:00");
    assert_eq!(made.get("status"), None);
    let token = token(&bench).await;
    let (status, answer) = call(&bench, &token, "POST", "", Some(wish(&json!({})))).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({"status": -1, "message": "Invoice Number already exists. Please enter new invoice number.", "result": null,
            "errorCode": null, "guid": null})
    );
    let (_, answer) = call(&bench, &token, "GET", "/BM345A12", None).await;
    let shown = &answer["result"];
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["expiryDate"], "2030-01-01T10:00:00.000+0530");
    assert_eq!(shown["udf"]["udf1"], "BM345A-12");
    assert_eq!(shown["udf"]["udf5"], Value::Null);
    // Without a number PayU makes one up.
    let unnamed = link(&bench, &json!({"invoiceNumber": null})).await;
    assert!(
        unnamed["invoiceNumber"]
            .as_str()
            .unwrap()
            .starts_with("INV")
    );
}

#[tokio::test]
async fn a_payment_is_told_and_shown() {
    let bench = start(json!({"charges": "11.80"})).await;
    let made = link(&bench, &json!({})).await;
    let paid = bench
        .control("customer/pay", json!({"link": made["paymentLink"]}))
        .await;
    bench.settle().await;
    let hook = bench.receiver.got().pop().unwrap();
    let form = form(&hook.raw);
    let of = |name| field(&form, name);
    assert_eq!(
        (of("amount"), of("udf1"), of("udf2")),
        ("840.50", "BM345A-12", "till 3")
    );
    assert_eq!(
        (of("status"), of("unmappedstatus"), of("mode")),
        ("success", "captured", "UPI")
    );
    assert_eq!(of("field9"), "Transaction & more: 100%");
    let message = format!(
        "11.80|{SALT}|success|||||||||till 3|BM345A-12||Pallavi|Bill|840.50|{}|{KEY}",
        of("txnid")
    );
    assert_eq!(of("hash"), sha512(&message));
    let id = paid["payment_id"].as_str().unwrap();
    assert_eq!(of("mihpayid"), id);
    assert_ne!(
        of("txnid"),
        "BM345A12",
        "a link's payment has a number of its own"
    );

    let token = token(&bench).await;
    let (_, answer) = call(&bench, &token, "GET", "/BM345A12", None).await;
    assert_eq!(answer["result"]["status"], "expired");
    assert_eq!(
        answer["result"]["totalAmountCollected"].to_string(),
        "840.5"
    );
    let (day, _) = of("addedon").split_once(' ').unwrap();
    let path = format!("/BM345A12/txns?dateFrom={day}&dateTo={day}");
    let (_, answer) = call(&bench, &token, "GET", &path, None).await;
    let row = &answer["result"]["data"][0];
    assert_eq!(row["transactionId"], id);
    assert_eq!(
        (&row["merchantReferenceId"], &row["status"]),
        (&json!(of("txnid")), &json!("success"))
    );
    assert_ne!(row["settledAmount"].to_string(), "840.5");
    let (_, answer) = call(&bench, &token, "GET", "/BM345A12/txns", None).await;
    assert_eq!(answer["status"], -1, "both dates are wanted");
    let path = "/BM345A12/txns?dateFrom=2020-01-01&dateTo=2020-01-02";
    let (_, answer) = call(&bench, &token, "GET", path, None).await;
    assert_eq!(answer["result"]["data"], json!([]));

    let checked = command(&bench, "check_payment", &[id]).await;
    let details = &checked["transaction_details"];
    assert_eq!(details["mihpayid"].to_string(), id, "a number here");
    assert_eq!(
        (&details["amt"], &details["unmappedstatus"]),
        (&json!("840.50"), &json!("captured"))
    );
    let both = format!("{}|none", of("txnid"));
    let verified = command(&bench, "verify_payment", &[&both]).await;
    assert_eq!(
        verified["msg"],
        "1 out of 2 Transactions Fetched Successfully"
    );
    assert_eq!(verified["transaction_details"][of("txnid")]["mihpayid"], id);
    assert_eq!(
        verified["transaction_details"]["none"],
        json!({"mihpayid": "Not Found", "status": "Not Found"})
    );

    let again = json!({"vendor": "payu", "reference_id": "BM345A-12"});
    let (status, code) = bench.control_refused("customer/pay", again).await;
    assert_eq!((status, code.as_str()), (409, "not_payable"));
    let records = bench
        .look("received?vendor=payu&operation=create_payment_link&reference_id=BM345A-12")
        .await;
    assert_eq!(records["count"], 1);
}

#[tokio::test]
async fn attempts_that_are_no_money() {
    let bench = start(json!({"link_txnid": "invoice"})).await;
    link(&bench, &json!({})).await;
    let who = json!({"vendor": "payu", "reference_id": "BM345A-12"});
    let with = |name: &str| {
        let mut who = who.clone();
        who[name] = json!(true);
        who
    };
    bench.control("customer/fail", who.clone()).await;
    bench.control("customer/cancel", who.clone()).await;
    bench.control("customer/pay", with("pending")).await;
    bench.control("customer/pay", with("authorize_only")).await;
    bench.settle().await;
    let seen: Vec<(String, String)> = bench
        .receiver
        .got()
        .iter()
        .map(|got| {
            let form = form(&got.raw);
            assert_eq!(field(&form, "txnid"), "BM345A12");
            (
                field(&form, "status").to_owned(),
                field(&form, "unmappedstatus").to_owned(),
            )
        })
        .collect();
    let expected = [
        ("failure", "failed"),
        ("failure", "userCancelled"),
        ("pending", "in progress"),
        ("success", "auth"),
    ];
    assert_eq!(seen, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let token = token(&bench).await;
    let (_, answer) = call(&bench, &token, "GET", "/BM345A12", None).await;
    assert_eq!(answer["result"]["totalAmountCollected"], 0);
    assert_eq!(answer["result"]["status"], "active");
}

#[tokio::test]
async fn a_link_can_be_ended_while_it_is_open() {
    let bench = start(json!({})).await;
    let token = token(&bench).await;
    let off = || Some(json!({"active": false}));
    link(&bench, &json!({})).await;
    let (_, answer) = call(
        &bench,
        &token,
        "PUT",
        "/BM345A12",
        Some(json!({"status": "inactive"})),
    )
    .await;
    assert_eq!(answer["status"], -1, "there is no such field");
    let early = Some(json!({"expiry": "2020-01-01 00:00:00"}));
    let (_, answer) = call(&bench, &token, "PUT", "/BM345A12", early).await;
    assert_eq!(
        answer["message"],
        "expiry cannot be less than the current date"
    );
    let (_, answer) = call(&bench, &token, "PUT", "/BM345A12", off()).await;
    assert_eq!(
        (&answer["status"], &answer["message"]),
        (&json!(0), &json!("paymentLink updated"))
    );
    let (_, answer) = call(&bench, &token, "GET", "/BM345A12", None).await;
    assert_eq!(
        (&answer["result"]["status"], &answer["result"]["active"]),
        (&json!("inactive"), &json!(false))
    );
    let (_, answer) = call(&bench, &token, "PUT", "/BM345A12", off()).await;
    assert_eq!(answer["status"], -1, "it is ended already");
    let who = json!({"vendor": "payu", "reference_id": "BM345A-12"});
    assert_eq!(
        bench.control_refused("customer/pay", who.clone()).await.1,
        "not_payable"
    );
    // The bank was slower than the shop.
    let mut late = who;
    late["late"] = json!(true);
    assert_eq!(
        bench.control("customer/pay", late).await["status"],
        "captured"
    );
    let (_, answer) = call(&bench, &token, "PUT", "/NONE", off()).await;
    assert_eq!(answer["message"], "paymentLink not found");

    link(
        &bench,
        &json!({"invoiceNumber": "B2", "expiryDate": "2099-01-01 00:00:00"}),
    )
    .await;
    bench
        .control("clock", json!({"advance_seconds": 100 * 366 * 86_400_i64}))
        .await;
    let token = self::token(&bench).await;
    let (_, answer) = call(&bench, &token, "GET", "/B2", None).await;
    assert_eq!(answer["result"]["status"], "expired");
}

async fn paid(bench: &Bench) -> String {
    link(bench, &json!({})).await;
    let who = json!({"vendor": "payu", "reference_id": "BM345A-12"});
    let paid = bench.control("customer/pay", who).await;
    paid["payment_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refund_is_made_once_for_each_token() {
    let bench = start(json!({"refunds": "pending"})).await;
    let id = paid(&bench).await;
    let refund = |token: &'static str, amount: &'static str| {
        let (bench, id) = (&bench, id.as_str());
        async move { command(bench, "cancel_refund_transaction", &[id, token, amount]).await }
    };
    for (vars, code) in [
        (["1", "t1", "1.00"], 116),
        ([&id, "", "1.00"], 238),
        ([&id, "x23456789012345678901234", "1.00"], 238),
        ([&id, "t1", "840.51"], 105),
        ([&id, "t1", "0.00"], 105),
        ([&id, "t1", "1.001"], 105),
    ] {
        let answer = command(&bench, "cancel_refund_transaction", &vars).await;
        assert_eq!(
            (&answer["status"], &answer["error_code"]),
            (&json!(0), &json!(code)),
            "{vars:?}"
        );
    }
    let first = refund("t1", "100.00").await;
    assert_eq!(
        (&first["status"], &first["error_code"]),
        (&json!(1), &json!(102))
    );
    assert_eq!(
        (&first["msg"], &first["mihpayid"]),
        (&json!("Refund Request Queued"), &json!(id))
    );
    let request_id = first["request_id"].as_str().unwrap();
    assert_eq!(refund("t1", "100.00").await["error_code"], 106);
    assert_eq!(refund("t2", "100.00").await["error_code"], 214);
    bench
        .control("clock", json!({"advance_seconds": 300}))
        .await;
    assert_eq!(refund("t2", "100.00").await["error_code"], 102);
    assert_eq!(
        refund("t3", "640.51").await["error_code"],
        105,
        "more than is left"
    );

    let by_id = command(&bench, "check_action_status", &[request_id]).await;
    let entry = &by_id["transaction_details"][request_id][request_id];
    assert_eq!(
        (&entry["status"], &entry["token"], &entry["amt"]),
        (&json!("QUEUED"), &json!("t1"), &json!("100.00"))
    );
    let all = command(&bench, "check_action_status", &[&id, "payuid"]).await;
    let entries = all["transaction_details"][&id].as_object().unwrap();
    assert_eq!(entries.len(), 3, "the capture and two refunds");
    let none = command(&bench, "check_action_status", &["5"]).await;
    assert_eq!(none["transaction_details"]["5"], "No action status found");

    bench
        .control(
            &format!("refunds/{request_id}"),
            json!({"status": "processed"}),
        )
        .await;
    bench.settle().await;
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(got.header("content-type"), "application/json");
    for (name, value) in [
        ("action", "refund"),
        ("status", "success"),
        ("token", "t1"),
        ("amt", "100.00"),
        ("key", KEY),
        ("mihpayid", &id),
        ("request_id", request_id),
    ] {
        assert_eq!(got.body[name], value, "{name}");
    }
    assert!(got.body["bank_arn"].is_number());
    assert_eq!(got.body.get("hash"), None);
    let (status, code) = bench
        .control_refused(
            &format!("refunds/{request_id}"),
            json!({"status": "failed"}),
        )
        .await;
    assert_eq!((status, code.as_str()), (409, "not_pending"));
}

#[tokio::test]
async fn a_failed_refund_gives_the_amount_back() {
    let bench = start(json!({"refunds": "failed"})).await;
    let id = paid(&bench).await;
    let answer = command(&bench, "cancel_refund_transaction", &[&id, "t1", "840.50"]).await;
    assert_eq!(answer["error_code"], 102);
    let request_id = answer["request_id"].as_str().unwrap();
    let status = command(&bench, "check_action_status", &[request_id]).await;
    assert_eq!(
        status["transaction_details"][request_id][request_id]["status"],
        "failure"
    );
    bench
        .control("clock", json!({"advance_seconds": 300}))
        .await;
    let again = command(&bench, "cancel_refund_transaction", &[&id, "t2", "840.50"]).await;
    assert_eq!(again["error_code"], 102);
}

#[tokio::test]
async fn a_wrong_hash_key_or_form_is_refused() {
    let bench = start(json!({})).await;
    let post = |path: &'static str, fields: Vec<(&'static str, String)>| {
        let bench = &bench;
        async move {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let (_, text) = bench.post_form(path, ("accept", "*/*"), &fields).await;
            serde_json::from_str::<Value>(&text).unwrap()["msg"].clone()
        }
    };
    let with = |key: &str, hash: String| {
        vec![
            ("key", key.to_owned()),
            ("command", "verify_payment".to_owned()),
            ("var1", "x".to_owned()),
            ("hash", hash),
        ]
    };
    let path = "/payu/merchant/postservice.php?form=2";
    let right = sha512(&format!("{KEY}|verify_payment|x|{SALT}"));
    assert_eq!(
        post(path, with(KEY, "00".to_owned())).await,
        "Invalid Hash."
    );
    assert_eq!(
        post(path, with("nobody", right.clone())).await,
        "Invalid key."
    );
    let bare = "/payu/merchant/postservice.php";
    assert_eq!(
        post(bare, with(KEY, right.clone())).await,
        "Parameter missing"
    );
    assert_eq!(
        post(path, with(KEY, right)).await,
        "0 out of 1 Transactions Fetched Successfully"
    );
}

#[tokio::test]
async fn faults_hit_payu_as_they_hit_everybody() {
    let bench = start(json!({})).await;
    let token = token(&bench).await;
    let fault = |fault: Value| {
        let bench = &bench;
        async move { bench.control("faults", fault).await }
    };
    fault(json!({"vendor": "payu", "operation": "create_payment_link", "kind": "reset_after"}))
        .await;
    let lost = bench
        .raw(
            "POST",
            LINK,
            &[("authorization", token.as_str()), ("merchantId", "8237550")],
            Some(wish(&json!({})).to_string()),
        )
        .await;
    assert!(lost.is_err(), "the connection was cut");
    let (_, answer) = call(&bench, &token, "GET", "/BM345A12", None).await;
    assert_eq!(answer["status"], 0, "and yet it was made");

    fault(
        json!({"vendor": "payu", "operation": "get_payment_link", "kind": "status", "status": 503}),
    )
    .await;
    let (status, answer) = call(&bench, &token, "GET", "/BM345A12", None).await;
    assert_eq!((status, &answer["status"]), (503, &json!(-1)));
    fault(json!({"vendor": "payu", "operation": "cancel_refund_transaction", "kind": "status", "status": 200, "code": 225})).await;
    let answer = command(&bench, "cancel_refund_transaction", &["1", "t", "1.00"]).await;
    assert_eq!(answer["error_code"], 225);

    fault(json!({"vendor": "payu", "operation": "payment_success", "kind": "duplicate_webhook"}))
        .await;
    fault(json!({"vendor": "payu", "operation": "payment_failure", "kind": "drop_webhook"})).await;
    let who = json!({"vendor": "payu", "reference_id": "BM345A-12"});
    bench.control("customer/fail", who.clone()).await;
    bench.control("customer/pay", who).await;
    bench.settle().await;
    let got = bench.receiver.got();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].raw, got[1].raw);
}

#[tokio::test]
async fn a_page_pays_and_leads_back() {
    let bench = start(json!({})).await;
    let back = format!("{}/back", bench.receiver.url);
    let made = link(&bench, &json!({"successURL": back})).await;
    let url = made["paymentLink"].as_str().unwrap();
    let path = &url[url.find("/payu/pay/").unwrap()..];
    let (status, page) = bench.raw("GET", path, &[], None).await.unwrap();
    assert!(status == 200 && page.contains("Rs. 840.50") && page.contains("<button>Pay"));
    assert_eq!(
        bench
            .raw("GET", "/payu/pay/nothing", &[], None)
            .await
            .unwrap()
            .0,
        404
    );
    let (status, _) = bench.raw("POST", path, &[], None).await.unwrap();
    assert_eq!(status, 200);
    bench.settle().await;
    let paths: Vec<String> = bench
        .receiver
        .got()
        .into_iter()
        .map(|got| got.path)
        .collect();
    assert!(paths.contains(&"/back".to_owned()) && paths.contains(&"/payu".to_owned()));
    let (_, page) = bench.raw("GET", path, &[], None).await.unwrap();
    assert!(!page.contains("<button>Pay"));
}

/// A payment inside WhatsApp is a payment in the merchant's account, with PayU's own webhook.
#[tokio::test]
async fn a_native_payment_shows_at_payu() {
    let bench = start(json!({})).await;
    bench
        .register(
            json!({}),
            json!({"configurations": [{"configuration_name": "shop pay", "provider_name": "payu", "gateway_account": KEY}]}),
        )
        .await;
    bench.open_window().await;
    let mut message: Value =
        serde_json::from_str(include_str!("samples/meta_req_order_details_pg_payu.json")).unwrap();
    message["to"] = json!("+919876543210");
    let parameters = &mut message["interactive"]["action"]["parameters"];
    parameters["payment_settings"][0]["payment_gateway"]["configuration_name"] = json!("shop pay");
    // The sample's sums do not work out with its sale amounts.
    for item in parameters["order"]["items"].as_array_mut().unwrap() {
        item.as_object_mut().unwrap().remove("sale_amount");
    }
    let reference = parameters["reference_id"].clone();
    let extras = parameters["payment_settings"][0]["payment_gateway"]["payu"].clone();
    let (status, answer) = bench.send(&message).await;
    assert_eq!(status, 200, "{answer}");
    let paid = bench
        .control(
            "customer/pay",
            json!({"vendor": "meta", "reference_id": reference}),
        )
        .await;
    bench.settle().await;
    let id = paid["pg_transaction_id"].as_str().unwrap();
    let checked = command(&bench, "check_payment", &[id]).await;
    assert_eq!(checked["transaction_details"]["unmappedstatus"], "captured");
    assert_eq!(checked["transaction_details"]["udf1"], extras["udf1"]);
    let hooks = bench
        .look("webhooks?vendor=payu&event=payment_success")
        .await;
    assert_eq!(hooks["count"], 1);
}
