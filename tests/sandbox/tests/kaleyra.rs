//! Kaleyra, held to its documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use serde_json::{Value, json};
use support::{Bench, gateway, order, sample, shape};

async fn bench(changes: Value) -> Bench {
    let bench = Bench::start().await;
    bench.kaleyra_account(changes).await;
    bench
}

async fn open_window(bench: &Bench) {
    bench
        .control(
            "customer/message",
            json!({"vendor": "kaleyra", "phone": "+919876543210"}),
        )
        .await;
}

fn action(reference: &str) -> String {
    json!({"name": "review_and_pay", "parameters": order(reference, gateway())}).to_string()
}

/// The fields of a right order, with changes; an empty value is as good as none.
fn bill<'a>(action: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        ("to", "+919876543210"),
        ("type", "order_details"),
        ("channel", "WhatsApp"),
        ("from", "+918045210677"),
        ("body", "Your bill"),
        ("footer", "Thank you"),
        ("header", "Acme"),
        ("action", action),
        ("callback_profile_id", "IN_1"),
    ];
    fields.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    fields.extend(changes);
    fields.retain(|(_, value)| !value.is_empty());
    fields
}

async fn send(bench: &Bench, reference: &str) -> Value {
    let (http, answer) = bench.kaleyra_send(&bill(&action(reference), &[])).await;
    assert_eq!(http, 202, "{answer}");
    answer
}

async fn send_status(bench: &Bench, reference: &str, status: &str) -> (u16, Value) {
    let action = json!({"name": "review_order",
        "parameters": {"reference_id": reference, "order": {"status": status, "description": "News"}}});
    let action = action.to_string();
    let changes = [("type", "order_status"), ("header", "")];
    bench.kaleyra_send(&bill(&action, &changes)).await
}

/// The callbacks of one kind, in order of arrival.
fn callbacks(bench: &Bench, event: &str) -> Vec<Value> {
    bench
        .receiver
        .got()
        .into_iter()
        .filter(|got| got.path == "/kaleyra" && got.body["event"] == event)
        .map(|got| got.body)
        .collect()
}

fn statuses(bench: &Bench) -> Vec<String> {
    callbacks(bench, "message_status")
        .iter()
        .map(|callback| callback["status"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_bill_is_accepted_reported_and_received() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    let answer = send(&bench, "INV-1").await;
    assert_eq!(
        shape(&answer),
        shape(&sample("kaleyra_resp_order_details_202"))
    );
    assert_eq!(answer["type"], "order_details");
    assert_eq!(answer["body"], "Your bill");
    assert_eq!(answer["totalCount"], 1);
    let id = answer["id"].as_str().unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(answer["data"][0]["message_id"], format!("{id}:0"));
    let created = answer["createdDateTime"].as_str().unwrap();
    assert_eq!(
        (created.len(), &created[10..11], &created[19..]),
        (25, " ", "+00:00")
    );
    bench
        .control(
            "customer/read",
            json!({"vendor": "kaleyra", "phone": "+919876543210"}),
        )
        .await;
    bench.settle().await;
    assert_eq!(statuses(&bench), ["sent", "delivered", "read"]);
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(got.header("x-callback-token"), "secret");
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.body["id"], format!("{id}:0"));
    assert_eq!(got.body["reference_id"], "INV-1");
    assert_eq!(got.body["to"], "919876543210");
    let inbox = bench.look("customer/inbox?phone=%2B919876543210").await;
    assert_eq!(inbox["messages"][0]["vendor"], "kaleyra");
    assert_eq!(inbox["messages"][0]["kind"], "order_details");
    assert_eq!(inbox["messages"][0]["body"]["header"], "Acme");
    let received = bench
        .look("received?vendor=kaleyra&reference_id=INV-1")
        .await;
    let call = &received["received"][0];
    assert_eq!(call["operation"], "send_message.order_details");
    assert_eq!(call["body"]["to"], "+919876543210");
    assert_eq!(call["headers"]["api-key"], "***");
}

#[tokio::test]
async fn keys_are_checked_first() {
    let bench = bench(json!({})).await;
    for (path, key) in [
        ("/kaleyra/v1/HXIN1/messages", "wrong"),
        ("/kaleyra/v1/OTHER/messages", "key"),
        ("/kaleyra/v1/messages", "key"),
    ] {
        let (http, _) = bench.post_form(path, ("api-key", key), &[]).await;
        assert_eq!(http, 401, "{path}");
    }
    // The page's samples also print paths without the SID, or with a doubled version.
    let (http, _) = bench.kaleyra("GET", "/9180/shop/INV-1", None).await;
    assert_eq!(http, 404);
}

#[tokio::test]
async fn a_request_breaking_any_rule_is_refused() {
    let bench = bench(json!({"error_status": 422})).await;
    open_window(&bench).await;
    let right = action("INV-1");
    let (http, answer) = bench.kaleyra_send(&bill(&right, &[("body", "")])).await;
    assert_eq!((http, answer), (422, sample("kaleyra_err_E413")));
    bench.kaleyra_account(json!({"error_status": 400})).await;

    let long = "x".repeat(1025);
    let with = |pointer: &str, value: Value| {
        let mut action: Value = serde_json::from_str(&right).unwrap();
        *action.pointer_mut(pointer).unwrap() = value;
        action.to_string()
    };
    let gateway_type = "/parameters/payment_settings/0/payment_gateway/type";
    let setting = "/parameters/payment_settings/0";
    let zaakpay = json!({"type": "payment_gateway", "payment_gateway": {"type": "zaakpay", "configuration_name": "x"}});
    let upi =
        json!({"type": "upi_intent_link", "upi_intent_link": {"link": "upi://pay?pa=shop@bank"}});
    let actions = [
        // The outer quotes of the page's curl are curl's own.
        format!("\"{right}\""),
        "review_and_pay".to_owned(),
        with("/name", "review_order".into()),
        with("/parameters", "{}".into()),
        with("/parameters/reference_id", "a b".into()),
        with("/parameters/total_amount/value", json!(850.0)),
        with("/parameters/total_amount/value", 1.into()),
        with("/parameters/currency", "USD".into()),
        with(gateway_type, "billdesk".into()),
        with(setting, zaakpay),
        with(setting, upi),
    ];
    let mut cases: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![("to", "")], "to"),
        (vec![("to", "someone")], "to"),
        (vec![("type", "")], "type"),
        (vec![("type", "catalog")], "type"),
        (vec![("channel", "whatsapp")], "channel"),
        (vec![("from", "")], "from"),
        (vec![("from", "+911111111111")], "from"),
        (vec![("body", &long)], "body"),
        (vec![("footer", &long)], "footer"),
        (vec![("header", &long)], "header"),
        (vec![("action", "")], "action"),
        (vec![("callback_profile_id", "none")], "callback_profile_id"),
        (vec![("surprise", "1")], "surprise"),
        (vec![("type", "order_status")], "header"),
    ];
    cases.extend(
        actions
            .iter()
            .map(|action| (vec![("action", action.as_str())], "action")),
    );
    for (changes, field) in cases {
        let (http, answer) = bench.kaleyra_send(&bill(&right, &changes)).await;
        assert_eq!(http, 400, "{changes:?}");
        assert_eq!(answer["code"], "E413");
        assert_eq!(answer["data"], json!([]));
        assert!(answer["error"][field].is_string(), "{changes:?}: {answer}");
    }
    let (_, answer) = bench
        .kaleyra_send(&[("channel", "WhatsApp"), ("type", "order_details")])
        .await;
    let fields: Vec<&String> = answer["error"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["action", "body", "from", "to"]);

    // None of them used the reference up; the samples' spelling is taken as well.
    let capital = right.replace("review_and_pay", "Review_and_Pay");
    assert_eq!(bench.kaleyra_send(&bill(&capital, &[])).await.0, 202);
    let (http, answer) = bench.kaleyra_send(&bill(&right, &[])).await;
    assert_eq!(http, 400);
    assert!(
        answer["error"]["action"]
            .as_str()
            .unwrap()
            .contains("unique")
    );
    bench
        .kaleyra_account(json!({"any_payment_type": true}))
        .await;
    let link = with("/parameters/reference_id", "INV-2".into());
    let mut link: Value = serde_json::from_str(&link).unwrap();
    link["parameters"]["payment_type"] = "upi".into();
    link["parameters"]["payment_settings"][0] =
        json!({"type": "payment_link", "payment_link": {"uri": "https://rzp.io/1"}});
    assert_eq!(
        bench.kaleyra_send(&bill(&link.to_string(), &[])).await.0,
        202
    );
}

#[tokio::test]
async fn outside_the_window_only_templates_arrive() {
    let bench = bench(json!({})).await;
    send(&bench, "INV-1").await;
    let template = |params: &'static str, url: &'static str| {
        vec![
            ("to", "919876543210"),
            ("type", "template"),
            ("channel", "WhatsApp"),
            ("from", "918045210677"),
            ("template_name", "receipt"),
            ("lang_code", "en"),
            ("params", params),
            ("param_url", url),
            ("callback_profile_id", "IN_1"),
        ]
    };
    for params in ["\"Pallavi\",\"850\"", "Pallavi,850"] {
        let (http, answer) = bench.kaleyra_send(&template(params, "r/1")).await;
        assert_eq!(http, 202, "{answer}");
    }
    for (params, url) in [("Pallavi", "r/1"), ("Pallavi,850", "")] {
        let (http, answer) = bench.kaleyra_send(&template(params, url)).await;
        assert_eq!((http, &answer["code"]), (400, &json!("E413")));
    }
    bench.settle().await;
    assert_eq!(
        statuses(&bench),
        ["failed", "sent", "delivered", "sent", "delivered"]
    );
    assert_eq!(callbacks(&bench, "message_status")[0]["code"], "131047");

    bench
        .control(
            "customer/message",
            json!({"vendor": "kaleyra", "phone": "+919876543210", "text": "Say \"hi\" {status}\n₹"}),
        )
        .await;
    bench.settle().await;
    let inbound = callbacks(&bench, "incoming_message").pop().unwrap();
    assert_eq!(inbound["text"], "Say \"hi\" {status}\n₹");
    assert_eq!(inbound["from"], "919876543210");
    // The message that failed did not use the reference up.
    send(&bench, "INV-1").await;
    let text = [
        ("type", "text"),
        ("action", ""),
        ("footer", ""),
        ("header", ""),
    ];
    let (http, answer) = bench.kaleyra_send(&bill("", &text)).await;
    assert_eq!(http, 202, "{answer}");
    bench
        .control(
            "faults",
            json!({"vendor": "kaleyra", "kind": "async_error", "code": 131_053}),
        )
        .await;
    bench.kaleyra_send(&bill("", &text)).await;
    bench
        .control(
            "customer/phone",
            json!({"phone": "+919876543210", "whatsapp": false}),
        )
        .await;
    bench.kaleyra_send(&bill("", &text)).await;
    bench.settle().await;
    let codes: Vec<Value> = callbacks(&bench, "message_status")
        .iter()
        .map(|callback| callback["code"].clone())
        .collect();
    assert_eq!(codes[codes.len() - 2..], ["131053", "131026"]);
}

#[tokio::test]
async fn order_statuses_follow_the_transitions() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    send(&bench, "A").await;
    bench.settle().await;
    for (reference, status, wanted) in [
        ("A", "partially_shipped", "delivered"),
        ("A", "completed", "delivered"),
        ("A", "processing", "failed"),
        ("B", "processing", "failed"),
    ] {
        let (http, answer) = send_status(&bench, reference, status).await;
        assert_eq!((http, &answer["type"]), (202, &json!("order_status")));
        bench.settle().await;
        assert_eq!(
            statuses(&bench).pop().unwrap(),
            wanted,
            "{reference} {status}"
        );
    }
    for status in ["partially-shipped", "pending", "captured"] {
        assert_eq!(send_status(&bench, "A", status).await.0, 400);
    }
}

#[tokio::test]
async fn payments_are_reported_looked_up_and_refunded() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    send(&bench, "Hiabqidaq_1abcdeabyzqabq").await;
    let path = "/whatsapp/payment/status?number=%2B918045210677&reference_id=Hiabqidaq_1abcdeabyzqabq&payment_config_id=shop%20pay";
    let (http, answer) = bench.kaleyra("GET", path, None).await;
    assert_eq!((http, &answer["code"]), (200, &json!("WA200")));
    assert_eq!(answer["data"]["payments"][0]["status"], "PENDING");
    assert_eq!(answer["data"]["payments"][0]["transactions"], Value::Null);
    let customer = json!({"vendor": "kaleyra", "reference_id": "Hiabqidaq_1abcdeabyzqabq"});
    for act in ["fail", "cancel", "pay"] {
        bench
            .control(&format!("customer/{act}"), customer.clone())
            .await;
    }
    bench.settle().await;
    let payments = callbacks(&bench, "payment_status");
    let words: Vec<&Value> = payments.iter().map(|payment| &payment["status"]).collect();
    assert_eq!(words, ["PENDING", "PENDING", "CAPTURED"]);
    assert_eq!(
        payments[2]["amount"],
        json!({"value": 85_000, "offset": 100})
    );
    assert_eq!(payments[2]["transaction_status"], "success");
    assert_eq!(payments[0]["transaction_status"], "failed");

    let (_, answer) = bench.kaleyra("GET", path, None).await;
    assert_eq!(
        shape(&answer),
        shape(&sample("kaleyra_resp_payment_status"))
    );
    let payment = &answer["data"]["payments"][0];
    assert_eq!(payment["status"], "CAPTURED");
    assert_eq!(payment["transactions"][2]["status"], "success");

    let refund = |changes: Value| {
        let mut body = sample("kaleyra_req_refund");
        body["payment_config_id"] = "shop pay".into();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => {
                    body.as_object_mut().unwrap().remove(name);
                }
                value => body[name] = value.clone(),
            }
        }
        body
    };
    let call = async |body: Value| {
        bench
            .kaleyra("POST", "/whatsapp/payment/refund", Some(body))
            .await
    };
    for speed in [json!({"speed": null}), json!({"speed": "fast"})] {
        let (http, answer) = call(refund(speed)).await;
        assert_eq!((http, answer), (400, sample("kaleyra_err_WA400_refund")));
    }
    for (changes, field) in [
        (json!({"reference_id": null}), "reference_id"),
        (json!({"reference_id": "other"}), "reference_id"),
        (json!({"payment_config_id": "other"}), "payment_config_id"),
        (json!({"currency": "USD"}), "currency"),
        (json!({"value": "0"}), "value"),
        (json!({"value": "1.5"}), "value"),
        (json!({"value": "85001"}), "value"),
        (json!({"offset": "10"}), "offset"),
        (json!({"number": "+911111111111"}), "number"),
        (json!({"surprise": 1}), "surprise"),
    ] {
        let (http, answer) = call(refund(changes.clone())).await;
        assert_eq!((http, &answer["code"]), (400, &json!("WA400")), "{changes}");
        assert!(answer["error"][field].is_string(), "{changes}: {answer}");
        assert_eq!(answer["message"], answer["error"][field]);
    }
    let (http, answer) = call(refund(json!({}))).await;
    assert_eq!(http, 200);
    assert_eq!(answer["status"], "completed");
    assert_eq!(answer["speed_processed"], "instant");
    // It shows at the gateway.
    let refund_id = answer["id"].as_str().unwrap();
    let (http, shown) = bench
        .razorpay("GET", &format!("/v1/refunds/{refund_id}"), None)
        .await;
    assert_eq!((http, &shown["amount"]), (200, &json!(100)), "{shown}");
    assert_eq!(
        call(refund(json!({"value": 84_900, "offset": 100})))
            .await
            .0,
        200
    );
    assert_eq!(call(refund(json!({"value": "1"}))).await.0, 400);

    bench.kaleyra_account(json!({"refunds": "pending"})).await;
    send(&bench, "B").await;
    bench
        .control(
            "customer/pay",
            json!({"vendor": "kaleyra", "reference_id": "B"}),
        )
        .await;
    let (_, answer) = call(refund(json!({"reference_id": "B", "speed": "normal"}))).await;
    assert_eq!(answer["status"], "pending");
    let path = format!("refunds/{}", answer["id"].as_str().unwrap());
    bench.control(&path, json!({"status": "processed"})).await;
    let again = bench
        .control_refused(&path, json!({"status": "failed"}))
        .await;
    assert_eq!(again, (409, "not_pending".to_owned()));
}

#[tokio::test]
async fn a_lookup_says_what_it_misses() {
    let bench = bench(json!({})).await;
    open_window(&bench).await;
    send(&bench, "A").await;
    let path = |number: &str, reference: &str, configuration: &str| {
        format!(
            "/whatsapp/payment/status?number={number}&reference_id={reference}&payment_config_id={configuration}"
        )
    };
    for (path, field) in [
        (path("", "A", "shop%20pay"), "number"),
        (path("%2B918045210677", "", "shop%20pay"), "reference_id"),
        (path("%2B918045210677", "A", ""), "payment_config_id"),
        (path("%2B918045210677", "B", "shop%20pay"), "reference_id"),
        (path("%2B918045210677", "A", "other"), "payment_config_id"),
        // A plus that is not encoded is a space.
        (path("+918045210677", "A", "shop%20pay"), "number"),
        (path("911111111111", "A", "shop%20pay"), "number"),
    ] {
        let (http, answer) = bench.kaleyra("GET", &path, None).await;
        assert_eq!((http, &answer["code"]), (400, &json!("WA400")), "{path}");
        assert!(answer["error"][field].is_string(), "{path}: {answer}");
    }
    for (switch, business, customer) in [
        ("any", 200, 200),
        ("business", 200, 400),
        ("customer", 400, 200),
    ] {
        bench
            .kaleyra_account(json!({"payment_number": switch}))
            .await;
        for (number, wanted) in [("918045210677", business), ("919876543210", customer)] {
            let (http, _) = bench
                .kaleyra("GET", &path(number, "A", "shop+pay"), None)
                .await;
            assert_eq!(http, wanted, "{switch} {number}");
        }
    }
}

#[tokio::test]
async fn the_body_of_a_callback_is_the_accounts_own() {
    let url_body = "id={message_id}&state={status}&note={error}&brace={";
    let bench = bench(json!({"callback_url_body": url_body})).await;
    let callback = format!("{}/bare", bench.receiver.url);
    let changes = [
        ("callback_profile_id", ""),
        ("callback_url", callback.as_str()),
    ];
    let action = action("A");
    let (http, answer) = bench.kaleyra_send(&bill(&action, &changes)).await;
    assert_eq!(http, 202);
    bench.settle().await;
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(got.path, "/bare");
    let id = answer["data"][0]["message_id"].as_str().unwrap();
    assert_eq!(
        std::str::from_utf8(&got.raw).unwrap(),
        format!("id={id}&state=failed&note=Re-engagement message&brace={{")
    );

    // As a form it is encoded like one.
    let profile = json!([{
        "id": "IN_2", "url": format!("{}/form", bench.receiver.url), "body": url_body,
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
    }]);
    bench
        .kaleyra_account(json!({"callback_profiles": profile}))
        .await;
    bench
        .kaleyra_send(&bill(&action, &[("callback_profile_id", "IN_2")]))
        .await;
    bench.settle().await;
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(
        got.header("content-type"),
        "application/x-www-form-urlencoded"
    );
    assert!(
        String::from_utf8(got.raw)
            .unwrap()
            .contains("note=Re%2Dengagement%20message")
    );

    let misspelt = json!({"kaleyra": {"sid": "X", "api_key": "k", "callback_url_body": "{satus}"}});
    let (status, _) = bench.control_refused("accounts", misspelt).await;
    assert_eq!(status, 400);
}

/// The bodies that docs/kaleyra-callback.md asks for, and its way to name a message: by the address of its reports.
#[tokio::test]
async fn reports_go_to_the_message_and_payments_to_the_account() {
    let bench = bench(json!({})).await;
    let status = r#"{"event": "message", "message_id": "{message_id}", "status": "{status}", "code": "{error_code}", "detail": "{error}"}"#;
    let sms = r#"{"event": "message", "message_id": "{message_id}", "tag": "{ref}", "status": "{status}", "code": "{trace}", "detail": "{error}"}"#;
    let payment = r#"{"event": "payment", "reference_id": "{reference_id}", "status": "{payment_status}", "transaction_id": "{transaction_id}"}"#;
    bench
        .kaleyra_account(json!({
            "callback_profiles": [{
                "id": "IN_1", "url": format!("{}/account", bench.receiver.url),
                "headers": {"x-chatbill-token": "secret"}, "body": {"payment": payment, "sms": sms},
            }],
            "callback_url_body": {"status": status, "sms": sms},
        }))
        .await;
    open_window(&bench).await;
    let own = format!("{}/message", bench.receiver.url);
    let fields = [("callback_profile_id", ""), ("callback_url", own.as_str())];
    let (http, _) = bench.kaleyra_send(&bill(&action("A"), &fields)).await;
    assert_eq!(http, 202);
    bench
        .control(
            "customer/pay",
            json!({"vendor": "kaleyra", "reference_id": "A"}),
        )
        .await;
    let callback = json!({"url": own, "method": "POST"}).to_string();
    let text = [
        ("to", "+919876543210"),
        ("sender", "ACMEST"),
        ("type", "TXN"),
        ("body", "Pay Rs.850 at x -Acme"),
        ("template_id", "1107"),
        ("ref", "1:A:invoice.1:1"),
        ("callback", &callback),
    ];
    bench
        .post_form("/kaleyra/v1/HXIN1/messages", ("api-key", "key"), &text)
        .await;
    bench.settle().await;
    let got: Vec<(String, Value)> = bench
        .receiver
        .got()
        .into_iter()
        // The payment shows at the gateway, too.
        .filter(|got| got.path != "/razorpay")
        .map(|got| (got.path, got.body))
        .collect();
    let [sent, delivered, paid, reported] = got.as_slice() else {
        panic!("{got:?}");
    };
    for (report, word) in [(sent, "sent"), (delivered, "delivered")] {
        assert_eq!(report.0, "/message");
        assert_eq!(report.1["status"], word);
        assert_eq!(
            (&report.1["code"], &report.1["detail"]),
            (&json!(""), &json!(""))
        );
    }
    assert_eq!(paid.0, "/account");
    assert_eq!(paid.1["status"], "CAPTURED");
    assert_eq!(paid.1["reference_id"], "A");
    assert_eq!(reported.0, "/message");
    assert_eq!(reported.1["status"], "DELIVRD");
    assert_eq!(reported.1["tag"], "1:A:invoice.1:1");
}

#[tokio::test]
async fn callbacks_can_be_forged_and_calls_fail() {
    let bench = bench(json!({})).await;
    let forge = async |more: Value| {
        let mut request = json!({"vendor": "kaleyra", "body": {"event": "message_status"}});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        bench.control("webhooks/send", request).await;
        bench
            .receiver
            .got()
            .pop()
            .unwrap()
            .header("x-callback-token")
    };
    assert_eq!(forge(json!({})).await, "secret");
    assert_eq!(forge(json!({"signature": "wrong"})).await, "wrong");
    assert_eq!(
        forge(json!({"headers": {"X-Callback-Token": null}})).await,
        ""
    );

    open_window(&bench).await;
    bench
        .control(
            "faults",
            json!({"vendor": "kaleyra", "operation": "send_message", "reference_id": "A", "kind": "status", "status": 429}),
        )
        .await;
    send(&bench, "B").await;
    let (http, answer) = bench.kaleyra_send(&bill(&action("A"), &[])).await;
    assert_eq!((http, &answer["code"]), (429, &json!("E429")));
    bench
        .control(
            "faults",
            json!({"vendor": "kaleyra", "reference_id": "A", "kind": "status_after", "status": 500}),
        )
        .await;
    // Urlencoded as well: the page of the SMS API posts so.
    let (http, _) = bench
        .post_form(
            "/kaleyra/v1/HXIN1/messages",
            ("api-key", "key"),
            &bill(&action("A"), &[]),
        )
        .await;
    assert_eq!(http, 500);
    let inbox = bench.look("customer/inbox?phone=919876543210").await;
    assert_eq!(inbox["messages"][1]["reference_id"], "A");
    bench
        .control(
            "faults",
            json!({"vendor": "kaleyra", "operation": "payment", "kind": "duplicate_webhook"}),
        )
        .await;
    bench
        .control(
            "customer/pay",
            json!({"vendor": "kaleyra", "reference_id": "A"}),
        )
        .await;
    bench.settle().await;
    assert_eq!(callbacks(&bench, "payment_status").len(), 2);
}

#[tokio::test]
async fn an_sms_is_accepted_scrubbed_and_reported() {
    let bench = bench(json!({})).await;
    let header = ("api-key", "key");
    let text = "Pay Rs.850 at pay.example/1 -Acme";
    let right = [
        ("to", "919876543210,919876543211"),
        ("sender", "ACMEST"),
        ("type", "TXN"),
        ("body", text),
        ("template_id", "1107"),
        ("ref_custom", "task-1"),
        ("callback_profile_id", "IN_1"),
    ];
    for path in ["/kaleyra/v1/HXIN1/messages", "/kaleyra/v1/HXIN1/sms"] {
        let (http, answer) = bench.post_form(path, header, &right).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(http, 202, "{answer}");
        assert_eq!(
            shape(&answer),
            shape(&sample("kaleyra_resp_order_details_202"))
        );
        assert_eq!(answer["totalCount"], 2);
        assert!(
            answer["data"][1]["message_id"]
                .as_str()
                .unwrap()
                .ends_with(":1")
        );
    }
    bench.settle().await;
    let reports = callbacks(&bench, "sms_status");
    assert_eq!(reports.len(), 4);
    for report in &reports {
        assert_eq!(
            (&report["status"], &report["units"]),
            (&json!("DELIVRD"), &json!(1))
        );
        assert_eq!(report["ref"], "task-1");
    }
    let inbox = bench.look("customer/inbox?phone=919876543211").await;
    assert_eq!(inbox["messages"].as_array().unwrap().len(), 2);
    assert_eq!(inbox["messages"][0]["text"], text);
    assert_eq!(inbox["messages"][0]["segments"], 1);
    assert_eq!(inbox["messages"][0]["from"], "ACMEST");
    let received = bench
        .look("received?operation=send_sms&reference_id=task-1")
        .await;
    assert_eq!(received["count"], 2);

    let long = format!("Pay Rs.{} at x -Acme", "9".repeat(31));
    bench
        .control(
            "customer/phone",
            json!({"phone": "919876543210", "sms": false}),
        )
        .await;
    bench
        .control(
            "customer/phone",
            json!({"phone": "919876543211", "dnd": true}),
        )
        .await;
    for (changes, word, trace) in [
        (vec![("template_id", "9")], "NOT-SENT", "TEMPLATE-NOT-FOUND"),
        (vec![("body", "Other")], "NOT-SENT", "TEMPLATE-NOT-FOUND"),
        (
            vec![("body", long.as_str())],
            "NOT-SENT",
            "TEMPLATE-NOT-FOUND",
        ),
        (vec![("sender", "OTHERS")], "NOT-SENT", "NOTALLOWED"),
        (vec![("to", "919876543210")], "Undelivered", "MOB-OFF"),
        (
            vec![("to", "919876543211"), ("type", "MKT")],
            "NOT-SENT",
            "CON-DND",
        ),
        (vec![("to", "919876543211")], "DELIVRD", ""),
    ] {
        let mut fields: Vec<(&str, &str)> = right.to_vec();
        for (name, value) in &changes {
            for field in &mut fields {
                if field.0 == *name {
                    field.1 = value;
                }
            }
        }
        let (http, _) = bench
            .post_form("/kaleyra/v1/HXIN1/sms", header, &fields)
            .await;
        assert_eq!(http, 202, "{changes:?}");
        bench.settle().await;
        let report = callbacks(&bench, "sms_status").pop().unwrap();
        assert_eq!(
            (&report["status"], &report["trace"]),
            (&json!(word), &json!(trace)),
            "{changes:?}"
        );
    }
    for (changes, field) in [
        (("to", "someone"), "to"),
        (("sender", ""), "sender"),
        (("body", ""), "body"),
        (("type", ""), "type"),
        (("callback_profile_id", "none"), "callback_profile_id"),
    ] {
        let fields: Vec<(&str, &str)> = right
            .iter()
            .map(|field| {
                if field.0 == changes.0 {
                    changes
                } else {
                    *field
                }
            })
            .collect();
        let (http, answer) = bench
            .post_form("/kaleyra/v1/HXIN1/sms", header, &fields)
            .await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((http, &answer["code"]), (400, &json!("E413")));
        assert!(answer["error"][field].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn an_sms_brings_its_own_callback() {
    let bench = bench(json!({"callback_url_body": {"sms": "{\"status\": \"{status}\"}"}})).await;
    let callback = json!({"url": format!("{}/own", bench.receiver.url), "method": "POST",
        "header": {"X-Own": "1"}, "retry": {"count": 2, "interval": [30]}});
    let callback = callback.to_string();
    let fields = |callback| {
        vec![
            ("to", "919876543210"),
            ("sender", "ACMEST"),
            ("type", "TXN"),
            ("body", "Pay Rs.850 at x -Acme"),
            ("callback", callback),
        ]
    };
    let (http, _) = bench
        .post_form(
            "/kaleyra/v1/HXIN1/sms",
            ("api-key", "key"),
            &fields(&callback),
        )
        .await;
    assert_eq!(http, 202);
    bench.settle().await;
    let got = bench.receiver.got().pop().unwrap();
    assert_eq!(
        (got.path.as_str(), got.header("x-own")),
        ("/own", "1".to_owned())
    );
    assert_eq!(got.body["status"], "DELIVRD");
    let (http, _) = bench
        .post_form(
            "/kaleyra/v1/HXIN1/sms",
            ("api-key", "key"),
            &fields("http://x"),
        )
        .await;
    assert_eq!(http, 400);
}

#[tokio::test]
async fn both_ways_of_an_account_fail_as_planned() {
    let bench = bench(json!({})).await;
    let fault = |fault: Value| bench.control("faults", fault);
    let header = ("api-key", "key");
    let text = [
        ("to", "919876543210"),
        ("sender", "ACMEST"),
        ("type", "TXN"),
        ("body", "Pay Rs.850 at x -Acme"),
        ("template_id", "1107"),
        ("ref_custom", "1:A:invoice.1:2"),
        ("callback_profile_id", "IN_1"),
    ];
    let sms = async || {
        bench
            .post_form("/kaleyra/v1/HXIN1/messages", header, &text)
            .await
    };
    // A closed window, then a number that is not on WhatsApp; the SMS arrives.
    send(&bench, "A").await;
    open_window(&bench).await;
    bench
        .control(
            "customer/phone",
            json!({"phone": "+919876543210", "whatsapp": false}),
        )
        .await;
    send(&bench, "B").await;
    assert_eq!(sms().await.0, 202);
    bench.settle().await;
    let codes: Vec<Value> = callbacks(&bench, "message_status")
        .iter()
        .map(|callback| callback["code"].clone())
        .collect();
    assert_eq!(codes, ["131047", "131026"]);
    assert_eq!(statuses(&bench), ["failed", "failed"]);
    let inbox = bench.look("customer/inbox?phone=919876543210").await;
    assert_eq!(inbox["messages"].as_array().unwrap().len(), 1);
    assert_eq!(inbox["messages"][0]["channel"], "sms");

    for (planned, word, trace) in [
        (
            json!({"status": "NOT-SENT", "trace": "BLACKLIST"}),
            "NOT-SENT",
            "BLACKLIST",
        ),
        (json!({"status": "EXPIRED"}), "EXPIRED", "MOB-OFF"),
        (json!({"trace": "nonsense"}), "Undelivered", "MOB-OFF"),
    ] {
        fault(json!({"vendor": "kaleyra", "operation": "send_sms", "kind": "async_error", "body": planned})).await;
        assert_eq!(sms().await.0, 202);
        bench.settle().await;
        let report = callbacks(&bench, "sms_status").pop().unwrap();
        assert_eq!(
            (&report["status"], &report["trace"]),
            (&json!(word), &json!(trace))
        );
    }

    fault(
        json!({"vendor": "kaleyra", "operation": "send_sms", "kind": "status", "status": 429,
        "headers": {"Retry-After": "7"}}),
    )
    .await;
    assert_eq!(sms().await.0, 429);
}

#[tokio::test]
async fn a_customer_writes_under_the_page_s_names() {
    let body = r#"{"event": "inbound", "from": "{from}", "type": "{type}", "body": "{body}", "created_at": "{created_at}"}"#;
    let bench = Bench::start().await;
    bench
        .kaleyra_account(json!({"callback_profiles": [{
            "id": "IN_2", "url": format!("{}/kaleyra", bench.receiver.url), "body": {"message": body},
        }]}))
        .await;
    let said = json!({"vendor": "kaleyra", "phone": "+919876543210", "text": "STOP"});
    bench.control("customer/message", said).await;
    bench.settle().await;
    let got = bench.receiver.got().pop().unwrap().body;
    assert_eq!(
        (&got["from"], &got["body"], &got["type"]),
        (&json!("919876543210"), &json!("STOP"), &json!("text"))
    );
    assert!(got["created_at"].as_str().unwrap().parse::<i64>().is_ok());
}
