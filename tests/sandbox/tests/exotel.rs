//! Exotel, held to its documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use serde_json::{Value, json};
use support::{Bench, EXOTEL_KEY, gateway, interactive, order, sample, shape, status, template};

const PATH: &str = "/v2/accounts/acme1/messages";

async fn bench(changes: Value) -> Bench {
    let bench = Bench::start().await;
    bench.exotel_account(changes).await;
    bench
}

async fn open_window(bench: &Bench) {
    bench
        .control(
            "customer/message",
            json!({"vendor": "exotel", "phone": "+919876543210"}),
        )
        .await;
}

/// One message to the customer.
fn to_customer(content: Value) -> Value {
    json!({"from": "+918047109880", "to": "+919876543210", "content": content})
}

fn nested(meta: &Value) -> Value {
    json!({"type": "interactive", "interactive": meta["interactive"]})
}

fn bill(reference: &str) -> Value {
    to_customer(nested(&interactive(order(reference, gateway()))))
}

fn result(answer: &Value, index: usize) -> &Value {
    &answer["response"]["whatsapp"]["messages"][index]
}

/// The callbacks about messages, in order of arrival.
fn callbacks(bench: &Bench) -> Vec<Value> {
    bench
        .receiver
        .got()
        .iter()
        .filter_map(|got| got.body.pointer("/whatsapp/messages/0").cloned())
        .collect()
}

fn reports(bench: &Bench) -> Vec<i64> {
    callbacks(bench)
        .iter()
        .filter_map(|callback| callback["exo_status_code"].as_i64())
        .collect()
}

/// The fields of a callback that is a form.
fn form(raw: &[u8]) -> Vec<(String, String)> {
    std::str::from_utf8(raw)
        .unwrap()
        .split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            let value = percent_encoding::percent_decode_str(value)
                .decode_utf8()
                .unwrap();
            (name.to_owned(), value.into_owned())
        })
        .collect()
}

fn field(form: &[(String, String)], name: &str) -> String {
    form.iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_bill_is_accepted_reported_and_received() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let mut message = bill("INV-1");
    message["custom_data"] = "task-1".into();
    message["status_callback"] = format!("{}/dlr", bench.receiver.url).into();
    let (http, answer) = bench.exotel_send(json!([message])).await;
    assert_eq!(http, 202, "{answer}");
    assert_eq!(answer["http_code"], 202);
    assert_eq!(
        answer["metadata"],
        json!({"total": 1, "success": 1, "failed": 0})
    );
    let sid = &result(&answer, 0)["data"]["sid"];
    assert_eq!(
        *result(&answer, 0),
        json!({"code": 202, "error_data": null, "status": "success", "data": {"sid": sid}})
    );
    bench
        .control(
            "customer/read",
            json!({"vendor": "exotel", "reference_id": "INV-1"}),
        )
        .await;
    bench.settle().await;
    let got = bench.receiver.got();
    let reports: Vec<&support::Got> = got.iter().filter(|got| got.path == "/dlr").collect();
    let words: Vec<&str> = reports
        .iter()
        .map(|got| {
            got.body["whatsapp"]["messages"][0]["exo_detailed_status"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(
        words,
        ["EX_MESSAGE_SENT", "EX_MESSAGE_DELIVERED", "EX_MESSAGE_SEEN"]
    );
    let delivered = &reports[1].body;
    assert_eq!(shape(delivered), shape(&sample("exotel_wh_dlr_delivered")));
    let delivered = &delivered["whatsapp"]["messages"][0];
    assert_eq!(delivered["sid"], *sid);
    assert_eq!(delivered["to"], "919876543210");
    assert_eq!(delivered["custom_data"], "task-1");
    assert!(delivered["timestamp"].as_str().unwrap().ends_with("+05:30"));
    // Nothing that could be taken for a signature.
    assert!(
        !reports[0]
            .headers
            .keys()
            .any(|name| name.as_str().contains("signature"))
    );
    let inbox = bench.look("customer/inbox?phone=%2B919876543210").await;
    assert_eq!(inbox["messages"][0]["vendor"], "exotel");
    assert_eq!(inbox["messages"][0]["kind"], "order_details");
    assert_eq!(inbox["messages"][0]["status"], "read");
    let received = bench
        .look("received?vendor=exotel&reference_id=INV-1")
        .await;
    assert_eq!(
        received["received"][0]["operation"],
        "send_message.order_details"
    );
    assert_eq!(received["received"][0]["account"], "acme1");
    assert_eq!(
        received["received"][0]["headers"]["authorization"],
        "Basic ***"
    );
}

#[tokio::test]
async fn what_the_envelope_says_holds_for_all_its_messages() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let text = |text: &str| to_customer(json!({"type": "text", "text": {"body": text}}));
    let mut second = text("B");
    second["custom_data"] = "own".into();
    let body = json!({
        "custom_data": "all", "status_callback": format!("{}/all", bench.receiver.url),
        "whatsapp": {"messages": [text("A"), second]},
    });
    let (http, _) = bench.exotel("POST", PATH, Some(body)).await;
    assert_eq!(http, 202);
    bench.settle().await;
    let custom: Vec<Value> = bench
        .receiver
        .got()
        .iter()
        .filter(|got| got.path == "/all")
        .map(|got| got.body["whatsapp"]["messages"][0]["custom_data"].clone())
        .collect();
    assert_eq!(custom, ["all", "all", "own", "own"]);
}

#[tokio::test]
async fn the_samples_of_the_documents_are_taken_and_given() {
    let bench = bench(json!({
        "from": "your_waba_number", "message_answer": "data",
        "configurations": [{"configuration_name": "your_payment_config", "provider_name": "razorpay"}],
    }))
    .await;
    open_window(&bench).await;
    let (http, answer) = bench
        .exotel("POST", PATH, Some(sample("exotel_req_order_details_flat")))
        .await;
    assert_eq!(http, 200, "{answer}");
    assert_eq!(shape(&answer), shape(&sample("exotel_resp_payment_200")));
    assert_eq!(answer["response"]["data"]["to"], "+919876543210");
    bench
        .control(
            "customer/pay",
            json!({"vendor": "exotel", "reference_id": "order_12345"}),
        )
        .await;
    bench.settle().await;
    let payment = bench.receiver.got().pop().unwrap().body;
    let printed = sample("exotel_wh_payment_status_flat");
    assert_eq!(shape(&payment), shape(&printed));
    for field in ["event", "reference_id", "payment_status", "amount"] {
        assert_eq!(payment[field], printed[field], "{field}");
    }
    assert_eq!(
        payment["message_id"],
        answer["response"]["data"]["message_id"]
    );

    // The nested form of the same has Meta's rules: subtotal and tax are missing.
    let flat = sample("exotel_req_order_details_flat");
    let mut content = flat["whatsapp"]["messages"][0]["content"].clone();
    content["action"]["parameters"]["reference_id"] = "other".into();
    let nested = json!({"from": "your_waba_number", "to": "+919876543210",
        "content": {"type": "interactive", "interactive": content}});
    let (http, answer) = bench.exotel_send(json!([nested])).await;
    assert_eq!(http, 400);
    assert_eq!(answer["response"]["error_data"]["code"], 30_020);

    bench
        .exotel_account(json!({"message_answer": "per_message"}))
        .await;
    bench.exotel_send(json!([bill("ORD-1033")])).await;
    let (http, answer) = bench
        .exotel("POST", PATH, Some(sample("exotel_req_order_status")))
        .await;
    assert_eq!(
        (http, &result(&answer, 0)["status"]),
        (202, &json!("success"))
    );
}

#[tokio::test]
async fn keys_and_accounts_are_checked_first() {
    let bench = bench(json!({})).await;
    bench
        .exotel_account(json!({"account_sid": "other", "api_key": "key2"}))
        .await;
    for key in ["", "Bearer token", "Basic !!!", "Basic a2V5OmJhZA=="] {
        let (http, text) = bench
            .post(
                &format!("/exotel{PATH}"),
                &[("authorization", key)],
                String::new(),
            )
            .await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((http, &answer["http_code"]), (401, &json!(401)));
        let path = "/exotel/v1/Accounts/acme1/Sms/send.json";
        let (http, text) = bench
            .post(path, &[("authorization", key)], String::new())
            .await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(http, 401);
        assert_eq!(answer["RestException"]["Code"], 34_010);
    }
    let (http, _) = bench
        .exotel("POST", "/v2/accounts/other/messages", Some(json!({})))
        .await;
    assert_eq!(http, 403);
    let (http, answer) = bench
        .exotel("GET", "/v1/Accounts/other/SMS/Messages/1.json", None)
        .await;
    assert_eq!(
        (http, &answer["RestException"]["Code"]),
        (403, &json!(34_009))
    );
    let (http, _) = bench
        .exotel("GET", "/v2/accounts/acme1/nothing", None)
        .await;
    assert_eq!(http, 404);
}

#[tokio::test]
async fn a_broken_envelope_is_refused_whole() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let text = to_customer(json!({"type": "text", "text": {"body": "Hi"}}));
    for (body, code) in [
        (json!("text"), 30_019),
        (json!({}), 30_020),
        // One page shows a message without its envelope.
        (text.clone(), 30_019),
        (json!({"whatsapp": {"messages": []}}), 30_021),
        (
            json!({"whatsapp": {"messages": vec![text.clone(); 101]}}),
            30_021,
        ),
        (json!({"whatsapp": {"messages": {}}}), 30_019),
        (
            json!({"whatsapp": {"messages": [text]}, "surprise": 1}),
            30_019,
        ),
    ] {
        let (http, answer) = bench.exotel("POST", PATH, Some(body.clone())).await;
        assert_eq!(http, 400, "{body}");
        assert_eq!(answer["response"]["status"], "failure");
        assert_eq!(
            answer["response"]["error_data"]["code"], code,
            "{body}: {answer}"
        );
    }
    let text = to_customer(json!({"type": "text", "text": {"body": "Hi"}}));
    let (http, answer) = bench.exotel_send(json!(vec![text; 100])).await;
    assert_eq!((http, &answer["metadata"]["success"]), (202, &json!(100)));
}

#[tokio::test]
async fn each_message_has_a_code_of_its_own() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let with = |pointer: &str, value: Value| {
        let mut message = bill("INV-9");
        *message.pointer_mut(pointer).unwrap() = value;
        message
    };
    let parameters = "/content/interactive/action/parameters";
    let template = |name: &str, components: Value| {
        let meta = template(name, "en", components);
        to_customer(json!({"type": "template", "template": meta["template"]}))
    };
    let cases = [
        (json!({"from": "+918047109880", "content": {}}), 30_020),
        (with("/from", "+911111111111".into()), 30_005),
        (with("/to", "someone".into()), 30_012),
        (with("/content/type", "sticker".into()), 30_015),
        (with("/content/type", "order_details".into()), 30_019),
        (
            with("/content/interactive/type", "order_status".into()),
            30_021,
        ),
        (
            with(&format!("{parameters}/reference_id"), "a b".into()),
            30_021,
        ),
        (
            with(&format!("{parameters}/total_amount/value"), 1.into()),
            30_021,
        ),
        (
            with(&format!("{parameters}/total_amount/value"), json!(1.5)),
            30_019,
        ),
        (
            to_customer(json!({"type": "interactive", "recipient_type": "group"})),
            30_021,
        ),
        (to_customer(json!({"type": "text", "text": {}})), 30_020),
        (
            to_customer(json!({"type": "image", "image": {"link": "x"}})),
            30_021,
        ),
        (template("none", json!([])), 30_024),
        (template("receipt", json!([])), 30_023),
    ];
    let mut messages: Vec<Value> = cases.iter().map(|(message, _)| message.clone()).collect();
    messages.push(bill("INV-1"));
    messages.push(bill("INV-1"));
    let (http, answer) = bench.exotel_send(messages.into()).await;
    assert_eq!(http, 202);
    assert_eq!(
        answer["metadata"],
        json!({"total": 16, "success": 1, "failed": 15})
    );
    for (index, (message, code)) in cases.iter().enumerate() {
        let result = result(&answer, index);
        assert_eq!(result["status"], "failure", "{message}");
        assert_eq!(result["error_data"]["code"], *code, "{message}: {result}");
        assert_eq!(result["data"], Value::Null);
    }
    assert_eq!(result(&answer, 14)["status"], "success");
    // The reference is used up.
    assert_eq!(result(&answer, 15)["error_data"]["code"], 30_021);
}

#[tokio::test]
async fn payments_must_be_enabled_and_a_gateway_configured() {
    let bench = bench(json!({"configurations": []})).await;
    assert_eq!(bench.exotel_send(json!([bill("A")])).await.0, 402);
    bench
        .exotel_account(json!({"payment_messages": false}))
        .await;
    assert_eq!(bench.exotel_send(json!([bill("A")])).await.0, 403);
    let text = to_customer(json!({"type": "text", "text": {"body": "Hi"}}));
    assert_eq!(bench.exotel_send(json!([text])).await.0, 202);
}

#[tokio::test]
async fn outside_the_window_only_templates_arrive() {
    let bench = bench(json!({})).await;
    let (http, answer) = bench.exotel_send(json!([bill("INV-1")])).await;
    assert_eq!(
        (http, &result(&answer, 0)["status"]),
        (202, &json!("success"))
    );
    let meta = template(
        "bill",
        "en",
        json!([
            {"type": "body", "parameters": [{"type": "text", "text": "Pallavi"}]},
            {"type": "button", "sub_type": "order_details", "index": 0,
             "parameters": [{"type": "action", "action": {"order_details": order("INV-1", gateway())}}]},
        ]),
    );
    // The failed message did not use the reference up.
    let content = json!({"type": "template", "template": meta["template"]});
    let (_, answer) = bench.exotel_send(json!([to_customer(content)])).await;
    assert_eq!(result(&answer, 0)["status"], "success", "{answer}");
    bench.settle().await;
    assert_eq!(reports(&bench), [30_018, 30_001, 30_002]);
    assert_eq!(
        callbacks(&bench)[0]["exo_detailed_status"],
        "EX_REENGAGEMENT_ERROR"
    );

    open_window(&bench).await;
    bench.settle().await;
    let inbound = bench.receiver.got().pop().unwrap().body;
    assert_eq!(shape(&inbound), shape(&sample("exotel_wh_incoming")));
    assert_eq!(inbound["whatsapp"]["messages"][0]["from"], "+919876543210");
    bench.exotel_account(json!({"inbound_type": "icm"})).await;
    open_window(&bench).await;
    bench.settle().await;
    assert_eq!(callbacks(&bench).pop().unwrap()["callback_type"], "icm");
    let (_, answer) = bench.exotel_send(json!([bill("INV-2")])).await;
    assert_eq!(result(&answer, 0)["status"], "success");
    bench
        .control("clock", json!({"advance_seconds": 86_401}))
        .await;
    bench.exotel_send(json!([bill("INV-3")])).await;
    bench.settle().await;
    assert_eq!(reports(&bench).pop(), Some(30_018));
}

#[tokio::test]
async fn what_fails_later_is_reported_in_exotels_codes() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let state = |reference: &str, to: &str| to_customer(nested(&status(reference, to)));
    bench.exotel_send(json!([bill("A")])).await;
    bench.exotel_send(json!([state("A", "completed")])).await;
    bench.exotel_send(json!([state("A", "processing")])).await;
    bench.exotel_send(json!([state("B", "processing")])).await;
    bench
        .control(
            "faults",
            json!({"vendor": "exotel", "kind": "async_error", "code": 30_007}),
        )
        .await;
    bench.exotel_send(json!([bill("C")])).await;
    bench
        .control(
            "customer/phone",
            json!({"phone": "+919876543210", "whatsapp": false}),
        )
        .await;
    bench.exotel_send(json!([bill("D")])).await;
    bench.settle().await;
    assert_eq!(
        reports(&bench),
        [
            30_001, 30_002, 30_001, 30_002, 30_010, 30_010, 30_007, 30_013
        ]
    );
}

#[tokio::test]
async fn a_payment_is_told_in_the_shape_of_the_account() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let customer = |act: &str| format!("customer/{act}");
    for (payment_webhook, reference) in [("flat", "A"), ("data", "B"), ("statuses", "C")] {
        bench
            .exotel_account(json!({"payment_webhook": payment_webhook}))
            .await;
        let (_, answer) = bench.exotel_send(json!([bill(reference)])).await;
        assert_eq!(result(&answer, 0)["status"], "success");
        let order = json!({"vendor": "exotel", "reference_id": reference});
        for act in ["fail", "cancel", "pay"] {
            bench.control(&customer(act), order.clone()).await;
        }
        assert_eq!(
            bench.control_refused(&customer("pay"), order).await.1,
            "already_paid"
        );
    }
    bench.settle().await;
    let payments: Vec<Value> = bench
        .receiver
        .got()
        .into_iter()
        .filter(|got| got.path == "/exotel" && got.body["whatsapp"].is_null())
        .map(|got| got.body)
        .collect();
    assert_eq!(payments.len(), 9);
    for (index, word) in ["failed", "canceled", "captured"].iter().enumerate() {
        assert_eq!(payments[index]["payment_status"], *word);
        assert_eq!(payments[index + 3]["data"]["status"], *word);
        assert_eq!(payments[index + 6]["statuses"][0]["status"], *word);
    }
    let data = &payments[5];
    assert_eq!(data["type"], "payment_status");
    assert_eq!(data["data"]["reference_id"], "B");
    assert_eq!(data["data"]["amount"]["value"], 85_000);
    assert_eq!(data["data"]["from"], "919876543210");
    assert_eq!(
        shape(&payments[8]),
        shape(&sample("meta_wh_payment_bsp_old_shape"))
    );
    assert_eq!(payments[8]["statuses"][0]["payment"]["reference_id"], "C");

    // The payment shows at the gateway, which alone refunds it.
    bench
        .exotel_account(json!({"payment_webhook": "data"}))
        .await;
    let payment = data["data"]["payment_id"].as_str().unwrap();
    let (http, _) = bench
        .razorpay(
            "POST",
            &format!("/v1/payments/{payment}/refund"),
            Some(json!({"amount": 85_000})),
        )
        .await;
    assert_eq!(http, 200);
    bench.settle().await;
    let refunded = bench
        .look("webhooks?vendor=exotel&event=payment.refunded")
        .await;
    assert_eq!(
        refunded["webhooks"][0]["body"]["data"]["status"],
        "refunded"
    );
}

#[tokio::test]
async fn paying_a_message_with_a_link_goes_on_at_the_gateway() {
    let bench = bench(json!({"configurations": []})).await;
    open_window(&bench).await;
    let (_, link) = bench
        .razorpay(
            "POST",
            "/v1/payment_links",
            Some(json!({"amount": 85_000, "reference_id": "INV-1"})),
        )
        .await;
    let setting = json!({"type": "payment_link", "payment_link": {"uri": link["short_url"]}});
    let mut parameters = order("INV-1", setting);
    parameters["payment_type"] = "upi".into();
    let message = to_customer(nested(&interactive(parameters)));
    let (_, answer) = bench.exotel_send(json!([message])).await;
    assert_eq!(result(&answer, 0)["status"], "success", "{answer}");
    bench
        .control(
            "customer/pay",
            json!({"vendor": "exotel", "reference_id": "INV-1"}),
        )
        .await;
    bench.settle().await;
    assert!(
        bench
            .receiver
            .events()
            .contains(&"payment_link.paid".to_owned())
    );
    assert_eq!(
        bench.look("webhooks?vendor=exotel&event=payment").await["count"],
        0
    );
}

#[tokio::test]
async fn faults_befall_calls_and_callbacks() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let fault = |fault: Value| bench.control("faults", fault);
    fault(json!({"vendor": "exotel", "operation": "send_message", "kind": "status", "status": 429, "headers": {"Retry-After": "7"}})).await;
    let (http, answer) = bench.exotel_send(json!([bill("A")])).await;
    assert_eq!((http, &answer["http_code"]), (429, &json!(429)));
    fault(json!({"vendor": "exotel", "operation": "send_sms", "kind": "status", "status": 503, "code": 40_405})).await;
    let (http, answer) = bench.exotel_sms(&[]).await;
    assert_eq!(
        (http, &answer["RestException"]["Code"]),
        (503, &json!(40_405))
    );
    fault(json!({"vendor": "exotel", "reference_id": "A", "kind": "reset_after"})).await;
    let body = json!({"whatsapp": {"messages": [bill("A")]}}).to_string();
    let lost = bench
        .raw(
            "POST",
            &format!("/exotel{PATH}"),
            &[("authorization", EXOTEL_KEY)],
            Some(body),
        )
        .await;
    assert!(lost.is_err());
    let inbox = bench.look("customer/inbox?phone=919876543210").await;
    assert_eq!(inbox["messages"][0]["reference_id"], "A");

    fault(json!({"vendor": "exotel", "operation": "status.sent", "kind": "drop_webhook"})).await;
    fault(
        json!({"vendor": "exotel", "operation": "status.delivered", "kind": "duplicate_webhook"}),
    )
    .await;
    bench.settle().await;
    let before = reports(&bench).len();
    bench.exotel_send(json!([bill("B")])).await;
    bench.settle().await;
    assert_eq!(reports(&bench)[before..], [30_002, 30_002]);
    fault(json!({"vendor": "exotel", "operation": "payment", "kind": "hold_webhooks"})).await;
    bench
        .control(
            "customer/pay",
            json!({"vendor": "exotel", "reference_id": "B"}),
        )
        .await;
    bench.settle().await;
    assert_eq!(
        bench.look("webhooks?vendor=exotel&state=held").await["count"],
        1
    );
    bench.control("webhooks/release", json!({})).await;
    bench.settle().await;

    // Retried until it is taken.
    bench.receiver.answer_with(&[500, 503]);
    open_window(&bench).await;
    for _ in 0..200 {
        let hooks = bench.look("webhooks?vendor=exotel&event=message").await;
        if hooks["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .any(|hook| hook["attempts"].as_array().unwrap().len() == 3)
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let hooks = bench.look("webhooks?vendor=exotel&event=message").await;
    assert_eq!(hooks["webhooks"][1]["state"], "delivered");

    let forged = bench
        .control(
            "webhooks/send",
            json!({"vendor": "exotel", "body": {"event": "payment_status"}}),
        )
        .await;
    assert_eq!(forged["status"], 200);
    let wrong = json!({"exotel": {"account_sid": "x", "api_key": "k", "api_token": "t", "inbound_type": "other"}});
    assert_eq!(bench.control_refused("accounts", wrong).await.0, 400);
}

const TEXT: &str = "Dear Pallavi, pay Rs.850 at https://pay.example/r/1 -Acme";

/// The fields of a right SMS, with changes; an empty value is as good as none.
fn sms<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        ("From", "ACMEST"),
        ("To", "+919876543210"),
        ("Body", TEXT),
        ("DltEntityId", "1101"),
        ("DltTemplateId", "1107"),
        ("SmsType", "transactional"),
        ("CustomField", "task-1"),
    ];
    fields.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    fields.extend(changes);
    fields
}

#[tokio::test]
async fn an_sms_is_queued_then_delivered() {
    let bench = bench(json!({})).await;
    let callback = format!("{}/sms", bench.receiver.url);
    let (http, answer) = bench
        .exotel_sms(&sms(&[("StatusCallback", &callback)]))
        .await;
    assert_eq!(http, 200, "{answer}");
    let message = &answer["SMSMessage"];
    assert_eq!(message["Status"], "queued");
    assert_eq!(message["Body"], TEXT);
    assert_eq!(message["DateSent"], Value::Null);
    let sid = message["Sid"].as_str().unwrap();
    bench.settle().await;
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(got.path, "/sms");
    assert_eq!(
        got.header("content-type"),
        "application/x-www-form-urlencoded"
    );
    let report = form(&got.raw);
    let names: Vec<&str> = report.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "SmsSid",
            "To",
            "Status",
            "SmsUnits",
            "DetailedStatus",
            "DetailedStatusCode",
            "DateSent",
            "CustomField"
        ]
    );
    assert_eq!(field(&report, "SmsSid"), sid);
    assert_eq!(field(&report, "Status"), "sent");
    assert_eq!(field(&report, "DetailedStatusCode"), "20005");
    assert_eq!(field(&report, "SmsUnits"), "1");
    assert_eq!(field(&report, "CustomField"), "task-1");

    let path = format!("/v1/Accounts/acme1/SMS/Messages/{sid}.json");
    let (http, details) = bench.exotel("GET", &path, None).await;
    assert_eq!(http, 200);
    let printed = shape(&sample("exotel_sms_details"));
    for (name, kind) in printed["SMSMessage"].as_object().unwrap() {
        assert_eq!(shape(&details)["SMSMessage"][name], *kind, "{name}");
    }
    assert_eq!(details["SMSMessage"]["SmsUnits"], 1);
    assert_eq!(details["SMSMessage"]["Price"], json!(0.18));
    let (http, _) = bench
        .exotel("GET", "/v1/Accounts/acme1/SMS/Messages/none.json", None)
        .await;
    assert_eq!(http, 404);

    let inbox = bench.look("customer/inbox?phone=919876543210").await;
    let got = &inbox["messages"][0];
    assert_eq!(got["channel"], "sms");
    assert_eq!(got["text"], TEXT);
    assert_eq!(
        (&got["encoding"], &got["segments"]),
        (&json!("GSM-7"), &json!(1))
    );
    let received = bench.look("received?operation=send_sms").await;
    assert_eq!(received["received"][0]["body"]["Body"], TEXT);
    assert_eq!(received["received"][0]["reference_id"], "task-1");

    // Without `.json` the answer is XML, an error too.
    for (fields, status, word) in [
        (sms(&[]), 200, "<Status>queued</Status>"),
        (sms(&[("Body", "")]), 400, "<RestException>"),
    ] {
        let (http, text) = bench
            .post_form(
                "/exotel/v1/Accounts/acme1/Sms/send",
                ("authorization", EXOTEL_KEY),
                &fields,
            )
            .await;
        assert_eq!(http, status);
        assert!(
            text.contains("<TwilioResponse>") && text.contains(word),
            "{text}"
        );
    }

    bench
        .control("settings", json!({"delivery_reports": false}))
        .await;
    let (_, answer) = bench.exotel_sms(&sms(&[])).await;
    let sid = answer["SMSMessage"]["Sid"].as_str().unwrap();
    let path = format!("/v1/Accounts/acme1/SMS/Messages/{sid}.json");
    let (_, details) = bench.exotel("GET", &path, None).await;
    assert_eq!(details["SMSMessage"]["Status"], "queued");
}

#[tokio::test]
async fn the_sms_sample_of_the_documents_is_taken() {
    let bench = bench(json!({"account_sid": "acme1", "sms": {"dlt": {
        "entity_id": "1234567890", "senders": ["EXOTEL"],
        "templates": [{"id": "9876543210", "text": "Your OTP is {#numeric#}"}],
    }}}))
    .await;
    let path = format!(
        "{}/tests/samples/exotel_sms_req.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let body = std::fs::read_to_string(path).unwrap();
    let headers = [
        ("authorization", EXOTEL_KEY),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    // Its callback leads to example.com: nothing may leave this machine.
    let body = body.trim().replace(
        "https%3A%2F%2Fexample.com%2Fcb",
        &bench.receiver.url.replace(':', "%3A").replace('/', "%2F"),
    );
    let (http, text) = bench
        .post("/exotel/v1/Accounts/acme1/Sms/send.json", &headers, body)
        .await;
    assert_eq!(http, 200, "{text}");
    bench.settle().await;
    let report = form(&bench.receiver.got().pop().unwrap().raw);
    assert_eq!(field(&report, "DetailedStatus"), "DELIVERED_TO_HANDSET");
}

#[tokio::test]
async fn the_operators_drop_what_is_not_registered() {
    let bench = bench(json!({})).await;
    let callback = format!("{}/sms", bench.receiver.url);
    let long = format!("Dear {}, pay Rs.850 at x -Acme", "x".repeat(31));
    let cases: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![("From", "OTHERS")], "23080"),
        (vec![("DltEntityId", "")], "23070"),
        (vec![("DltEntityId", "9")], "23281"),
        (vec![("DltTemplateId", "x")], "23181"),
        (vec![("DltTemplateId", "9")], "23182"),
        (
            vec![("DltTemplateId", "1109"), ("Body", "Old -Acme")],
            "23183",
        ),
        (
            vec![("DltTemplateId", "1110"), ("Body", "Bad -Acme")],
            "23184",
        ),
        (vec![("Body", "Something else")], "23185"),
        (vec![("Body", &long)], "23186"),
        (
            vec![("DltTemplateId", ""), ("Body", "Something else")],
            "23185",
        ),
        (vec![("DltTemplateId", "")], "20005"),
        (
            vec![("DltTemplateId", "1108"), ("Body", "₹850 -Acme")],
            "20005",
        ),
    ];
    for (changes, code) in cases {
        let mut fields = sms(&changes);
        fields.push(("StatusCallback", &callback));
        let (http, answer) = bench.exotel_sms(&fields).await;
        assert_eq!(http, 200, "{changes:?}");
        assert_eq!(answer["SMSMessage"]["Status"], "queued");
        bench.settle().await;
        let report = form(&bench.receiver.got().pop().unwrap().raw);
        assert_eq!(field(&report, "DetailedStatusCode"), code, "{changes:?}");
        let status = if code == "20005" { "sent" } else { "failed" };
        assert_eq!(field(&report, "Status"), status);
    }
    // Only what arrived is in the inbox; the rupee sign made one of them UCS-2.
    let inbox = bench.look("customer/inbox?phone=919876543210").await;
    let encodings: Vec<&str> = inbox["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["encoding"].as_str().unwrap())
        .collect();
    assert_eq!(encodings, ["GSM-7", "UCS-2"]);
}

#[tokio::test]
async fn phones_that_are_off_or_undisturbed_get_nothing() {
    let bench = bench(json!({"sms": {
        "dlt": {"senders": ["ACMEST", "600123"], "templates": [{"id": "1", "text": "{#var#}"}]},
        "dnd_word": "failed-dnd", "status_callback": "http://127.0.0.1:1",
    }}))
    .await;
    let callback = format!("{}/sms", bench.receiver.url);
    let phone = json!({"phone": "+919876543210", "dnd": true});
    bench.control("customer/phone", phone).await;
    let send = async |from: &str, kind: &str| {
        let fields = sms(&[
            ("From", from),
            ("SmsType", kind),
            ("Body", "Hello"),
            ("DltTemplateId", "1"),
            ("StatusCallback", &callback),
        ]);
        assert_eq!(bench.exotel_sms(&fields).await.0, 200);
        bench.settle().await;
        let report = form(&bench.receiver.got().pop().unwrap().raw);
        (
            field(&report, "Status"),
            field(&report, "DetailedStatusCode"),
        )
    };
    let pair = |status: &str, code: &str| (status.to_owned(), code.to_owned());
    assert_eq!(
        send("600123", "promotional").await,
        pair("failed-dnd", "23005")
    );
    assert_eq!(send("ACMEST", "transactional").await, pair("sent", "20005"));
    let phone = json!({"phone": "+919876543210", "dnd": false, "sms": false});
    bench.control("customer/phone", phone).await;
    assert_eq!(
        send("ACMEST", "transactional").await,
        pair("failed", "23035")
    );
    let phone = json!({"phone": "+919876543210", "sms": true});
    bench.control("customer/phone", phone).await;
    bench
        .control(
            "faults",
            json!({"vendor": "exotel", "operation": "send_sms", "kind": "async_error", "code": 24_110}),
        )
        .await;
    assert_eq!(
        send("ACMEST", "transactional").await,
        pair("failed", "24110")
    );
}

#[tokio::test]
async fn an_sms_breaking_a_rule_of_the_api_is_refused() {
    let bench = bench(json!({})).await;
    let long = "x".repeat(2001);
    for (changes, code) in [
        ([("Body", "")], 40_200),
        ([("Body", &*long)], 40_200),
        ([("To", "")], 40_203),
        ([("To", "someone")], 40_203),
        ([("SmsType", "urgent")], 40_204),
        ([("EncodingType", "utf8")], 40_209),
        ([("From", "")], 40_205),
        ([("From", "A-SHOP")], 40_205),
        ([("SmsType", "promotional")], 40_206),
    ] {
        let (http, answer) = bench.exotel_sms(&sms(&changes)).await;
        assert_eq!(http, 400, "{changes:?}");
        assert_eq!(answer["RestException"]["Status"], 400);
        assert_eq!(answer["RestException"]["Code"], code, "{changes:?}");
    }
    bench
        .exotel_account(json!({"sms": {"linked_senders": ["ACMEXX"]}}))
        .await;
    let (http, answer) = bench.exotel_sms(&sms(&[])).await;
    assert_eq!(
        (http, &answer["RestException"]["Code"]),
        (400, &json!(40_210))
    );
}

#[tokio::test]
async fn a_link_in_an_sms_is_paid_at_the_gateway() {
    let bench = bench(json!({"sms": {"dlt": {
        "senders": ["ACMEST"], "templates": [{"id": "1107", "text": "Pay at {#url#} -Acme"}],
    }}}))
    .await;
    let link = bench.link("INV-1").await;
    let body = format!("Pay at {} -Acme", link["short_url"].as_str().unwrap());
    let inbox = async || {
        let inbox = bench.look("customer/inbox?phone=919876543210").await;
        inbox["messages"].as_array().unwrap().clone()
    };
    assert_eq!(bench.exotel_sms(&sms(&[("Body", &body)])).await.0, 200);
    // A variable has 30 characters at most; a link to this machine has more.
    assert!(inbox().await.is_empty());
    bench
        .exotel_account(json!({"sms": {"dlt": {
            "senders": ["ACMEST"], "variable_length": 100,
            "templates": [{"id": "1107", "text": "Pay at {#url#} -Acme"}],
        }}}))
        .await;
    assert_eq!(bench.exotel_sms(&sms(&[("Body", &body)])).await.0, 200);
    let messages = inbox().await;
    let link = messages[0]["text"].as_str().unwrap().split(' ').nth(2);
    bench
        .control("customer/pay", json!({"link": link.unwrap()}))
        .await;
    bench.settle().await;
    assert!(
        bench
            .receiver
            .events()
            .contains(&"payment_link.paid".to_owned())
    );
}

/// The texts that tenants register by copying them, from the document that shows them.
fn default_texts() -> Vec<(String, String)> {
    include_str!("../../../docs/providers.md")
        .lines()
        .filter(|line| line.contains("{#var#}{#var#}{#var#}") && line.starts_with("| `"))
        .map(|line| {
            let mut quoted = line.split('`').skip(1).step_by(2);
            (
                quoted.next().unwrap().to_owned(),
                quoted.next().unwrap().to_owned(),
            )
        })
        .collect()
}

/// A text with its slots filled; the link has the last three.
fn filled(text: &str, link: &str) -> String {
    let (fixed, _) = text.split_once("{#var#}{#var#}{#var#}").unwrap();
    format!("{}{link}", fixed.replace("{#var#}", "Demo Kirana"))
}

/// A receipt's short address on the local stack: the emulator's own path, an API's id, the stage and 13 letters.
const LOCAL_LINK: &str = "http://127.0.0.1:45661/_aws/execute-api/a1b2c3d4e5/local/r/abcdefghijkmn";

#[tokio::test]
async fn the_default_texts_carry_a_local_short_link() {
    let texts = default_texts();
    assert_eq!(texts.len(), 6);
    let templates: Vec<Value> = (1..)
        .zip(&texts)
        .map(|(id, (_, text))| json!({"id": id.to_string(), "text": text}))
        .collect();
    let bench = bench(json!({"sms": {"dlt": {
        "entity_id": "1101", "senders": ["ACMEST"], "templates": templates, "url_hosts": ["127.0.0.1"],
    }}}))
    .await;
    let callback = format!("{}/sms", bench.receiver.url);
    let longest = format!("{LOCAL_LINK}{}", "x".repeat(90 - LOCAL_LINK.len()));
    let too_long = format!("{longest}x");
    let elsewhere = LOCAL_LINK.replace("127.0.0.1", "rzp.io");
    for (link, code) in [
        (LOCAL_LINK, "20005"),
        (longest.as_str(), "20005"),
        (too_long.as_str(), "23186"),
        (elsewhere.as_str(), "23083"),
    ] {
        for (id, (kind, text)) in (1..).zip(&texts) {
            let (id, body) = (id.to_string(), filled(text, link));
            let fields = sms(&[
                ("Body", &body),
                ("DltTemplateId", &id),
                ("StatusCallback", &callback),
            ]);
            assert_eq!(bench.exotel_sms(&fields).await.0, 200);
            bench.settle().await;
            let report = form(&bench.receiver.got().pop().unwrap().raw);
            assert_eq!(field(&report, "DetailedStatusCode"), code, "{kind}: {body}");
        }
    }
}

#[tokio::test]
async fn both_ways_of_an_account_fail_as_planned() {
    let bench = bench(json!({})).await;
    let callback = format!("{}/sms", bench.receiver.url);
    let fault = |fault: Value| bench.control("faults", fault);
    // A number that is not on WhatsApp still gets an SMS.
    open_window(&bench).await;
    bench
        .control(
            "customer/phone",
            json!({"phone": "+919876543210", "whatsapp": false}),
        )
        .await;
    bench.exotel_send(json!([bill("A")])).await;
    bench.settle().await;
    assert_eq!(reports(&bench), [30_013]);
    assert_eq!(bench.exotel_sms(&sms(&[])).await.0, 200);
    let inbox = bench.look("customer/inbox?phone=919876543210").await;
    assert_eq!(inbox["messages"].as_array().unwrap().len(), 1);
    assert_eq!(inbox["messages"][0]["channel"], "sms");

    // Codes of either way, by report.
    bench
        .control(
            "customer/phone",
            json!({"phone": "+919876543210", "whatsapp": true}),
        )
        .await;
    for (operation, code) in [("send_message", 30_012), ("send_sms", 23_035)] {
        fault(json!({"vendor": "exotel", "operation": operation, "kind": "async_error", "code": code})).await;
    }
    bench.exotel_send(json!([bill("B")])).await;
    bench
        .exotel_sms(&sms(&[("StatusCallback", &callback)]))
        .await;
    bench.settle().await;
    assert_eq!(reports(&bench), [30_013, 30_012]);
    let report = form(&bench.receiver.got().pop().unwrap().raw);
    assert_eq!(field(&report, "DetailedStatusCode"), "23035");

    // Throttled, with the wait in a header, in the words of each API.
    fault(json!({"vendor": "exotel", "operation": "send_sms", "kind": "status", "status": 429, "code": 40_402,
        "headers": {"Retry-After": "7"}}))
    .await;
    let (http, answer) = bench.exotel_sms(&sms(&[])).await;
    assert_eq!(
        (http, &answer["RestException"]["Code"]),
        (429, &json!(40_402))
    );

    // An answer that never comes, before and after the SMS was taken.
    for (kind, taken) in [("timeout_before", 0), ("timeout_after", 1)] {
        let before = bench.look("customer/inbox?phone=919876543210").await;
        let before = before["messages"].as_array().unwrap().len();
        fault(json!({"vendor": "exotel", "operation": "send_sms", "kind": kind, "delay_ms": 10}))
            .await;
        let body = "From=ACMEST&To=%2B919876543210&Body=Dear%20A%2C%20pay%20Rs.1%20at%20x%20-Acme&DltEntityId=1101&DltTemplateId=1107";
        let headers = [
            ("authorization", EXOTEL_KEY),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let path = "/exotel/v1/Accounts/acme1/Sms/send.json";
        let lost = bench
            .raw("POST", path, &headers, Some(body.to_owned()))
            .await;
        assert!(lost.is_err(), "{kind}");
        let after = bench.look("customer/inbox?phone=919876543210").await;
        assert_eq!(
            after["messages"].as_array().unwrap().len(),
            before + taken,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_customer_writes_in_every_form_and_replies_follow_their_message() {
    for (kind, pointer) in [
        ("incoming_message", "/whatsapp/messages/0/content/text/body"),
        ("icm", "/whatsapp/messages/0/content/text/body"),
        ("portal", "/message/text/body"),
    ] {
        let bench = bench(json!({"inbound_type": kind})).await;
        let said = json!({"vendor": "exotel", "phone": "+919876543210", "text": "STOP"});
        bench.control("customer/message", said.clone()).await;
        bench.settle().await;
        let got = bench.receiver.got().pop().unwrap();
        assert_eq!(got.path, "/exotel");
        assert_eq!(got.body.pointer(pointer), Some(&json!("STOP")), "{kind}");
        let message = got
            .body
            .pointer("/whatsapp/messages/0")
            .or_else(|| got.body.get("message"))
            .unwrap();
        assert_eq!(message["from"], "+919876543210");
        assert_eq!(
            message.get("timestamp").is_some(),
            kind != "incoming_message"
        );

        let mut sold = bill("A");
        sold["status_callback"] = json!(format!("{}/own", bench.receiver.url));
        let (http, answer) = bench.exotel_send(json!([sold])).await;
        assert_eq!(result(&answer, 0)["status"], "success", "{http} {answer}");
        let mut reply = said;
        reply["reply"] = json!(true);
        bench.control("customer/message", reply).await;
        bench.settle().await;
        let got = bench.receiver.got().pop().unwrap();
        assert_eq!(got.path, "/own");
        assert_eq!(got.body.pointer(pointer), Some(&json!("STOP")));
    }
}
