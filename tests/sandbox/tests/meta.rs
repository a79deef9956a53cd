//! Meta's WhatsApp Cloud API, held to its documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use serde_json::{Value, json};
use support::{Bench, gateway, interactive, order, sample, status, template};

fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_default()
}

fn details(answer: &Value) -> &str {
    answer["error"]["error_data"]["details"]
        .as_str()
        .unwrap_or_default()
}

/// Sets what a JSON pointer names; `null` removes it.
fn with(mut message: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = message.pointer_mut(parent).unwrap();
    if let Ok(index) = key.parse::<usize>() {
        parent[index] = value;
    } else if value.is_null() {
        parent.as_object_mut().unwrap().remove(key);
    } else {
        parent[key] = value;
    }
    message
}

fn link(uri: &str) -> Value {
    json!({"type": "payment_link", "payment_link": {"uri": uri}})
}

#[tokio::test]
async fn a_bill_is_accepted_reported_and_received() {
    let bench = Bench::start().await;
    bench.open_window().await;
    let (http, answer) = bench.send(&interactive(order("INV-1", gateway()))).await;
    assert_eq!(http, 200, "{answer}");
    assert_eq!(
        answer["contacts"][0],
        json!({"input": "+919876543210", "wa_id": "919876543210"})
    );
    let id = answer["messages"][0]["id"].as_str().unwrap();
    assert!(id.starts_with("wamid."));
    bench
        .control("customer/read", json!({"phone": "+919876543210"}))
        .await;
    bench.settle().await;
    let reports = bench.receiver.statuses();
    let words: Vec<&str> = reports
        .iter()
        .map(|report| report["status"].as_str().unwrap())
        .collect();
    assert_eq!(words, ["sent", "delivered", "read"]);
    for report in &reports {
        assert_eq!(report["id"], id);
        assert_eq!(report["biz_opaque_callback_data"], "task-1");
        assert!(report["timestamp"].is_string());
    }
    let inbox = bench.look("customer/inbox?phone=%2B919876543210").await;
    assert_eq!(inbox["messages"][0]["kind"], "order_details");
    assert_eq!(inbox["messages"][0]["reference_id"], "INV-1");
}

#[tokio::test]
async fn webhooks_are_signed_over_ascii_json_in_the_documented_envelope() {
    let bench = Bench::start().await;
    bench
        .control(
            "customer/message",
            json!({"phone": "919876543210", "text": "नमस्ते ₹ 😀"}),
        )
        .await;
    bench.settle().await;
    let got = bench.receiver.got().pop().unwrap();
    assert!(got.raw.is_ascii());
    assert_eq!(got.body["object"], "whatsapp_business_account");
    assert_eq!(got.body["entry"][0]["id"], "102290129340398");
    let change = &got.body["entry"][0]["changes"][0];
    assert_eq!(change["field"], "messages");
    assert_eq!(
        change["value"]["metadata"]["phone_number_id"],
        "106540352242922"
    );
    assert_eq!(change["value"]["messages"][0]["text"]["body"], "नमस्ते ₹ 😀");
    let signature = got.header("x-hub-signature-256");
    assert_eq!(signature.len(), "sha256=".len() + 64);

    // RFC 4231, test case 2.
    bench
        .register(json!({}), json!({"app_secret": "Jefe"}))
        .await;
    bench
        .control(
            "webhooks/send",
            json!({"vendor": "meta", "raw_body": "what do ya want for nothing?"}),
        )
        .await;
    assert_eq!(
        bench
            .receiver
            .got()
            .pop()
            .unwrap()
            .header("x-hub-signature-256"),
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}

#[tokio::test]
async fn tokens_and_ids_are_checked_first() {
    let bench = Bench::start().await;
    for token in ["", "Bearer wrong", "Basic token"] {
        let (http, text) = bench
            .raw(
                "POST",
                "/meta/106540352242922/messages",
                &[("authorization", token)],
                Some("{}".to_owned()),
            )
            .await
            .unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((http, code(&answer)), (401, 190));
    }
    let (http, answer) = bench.meta("POST", "/999/messages", Some(json!({}))).await;
    assert_eq!((http, code(&answer)), (400, 100));
    assert_eq!(answer["error"]["error_subcode"], 33);
    let (_, answer) = bench
        .meta("POST", "/v23.0/106540352242922/messages", Some(json!({})))
        .await;
    assert_eq!(answer["error"]["error_subcode"], 33);
}

#[tokio::test]
async fn an_order_breaking_any_rule_is_refused() {
    let bench = Bench::start().await;
    bench.open_window().await;
    let now = bench.now().await;
    let p = "/interactive/action/parameters";
    let item = format!("{p}/order/items/0");
    let good = interactive(order("INV-1", gateway()));
    let setting = format!("{p}/payment_settings/0");
    let upi = |link: &str| json!({"type": "upi_intent_link", "upi_intent_link": {"link": link}});
    let cases: Vec<(String, Value, i64)> = vec![
        ("/messaging_product".into(), Value::Null, 131_008),
        ("/messaging_product".into(), "sms".into(), 131_009),
        ("/recipient_type".into(), "group".into(), 131_009),
        ("/to".into(), Value::Null, 131_008),
        ("/to".into(), "someone".into(), 131_009),
        ("/to".into(), "+918045210677".into(), 131_021),
        ("/type".into(), "sticker".into(), 131_051),
        ("/surprise".into(), 1.into(), 100),
        ("/text".into(), json!({"body": "x"}), 100),
        (
            "/biz_opaque_callback_data".into(),
            "x".repeat(513).into(),
            131_009,
        ),
        ("/interactive/type".into(), "button".into(), 131_009),
        ("/interactive/body".into(), Value::Null, 131_008),
        (
            "/interactive/body/text".into(),
            "x".repeat(1025).into(),
            131_009,
        ),
        (
            "/interactive/footer/text".into(),
            "x".repeat(61).into(),
            131_009,
        ),
        (
            "/interactive/header".into(),
            json!({"type": "text", "text": "x".repeat(61)}),
            131_009,
        ),
        (
            "/interactive/header".into(),
            json!({"type": "image", "image": {"link": "ftp://x"}}),
            131_009,
        ),
        (
            "/interactive/header".into(),
            json!({"type": "image", "image": {}}),
            131_008,
        ),
        (
            "/interactive/action/name".into(),
            "review_order".into(),
            131_009,
        ),
        (p.into(), "{}".into(), 100),
        (format!("{p}/reference_id"), Value::Null, 131_008),
        (format!("{p}/reference_id"), "x".repeat(36).into(), 131_009),
        (format!("{p}/reference_id"), "INV 1".into(), 131_009),
        (format!("{p}/reference_id"), "INV/1".into(), 131_009),
        (format!("{p}/type"), "digital_goods".into(), 131_009),
        (format!("{p}/currency"), "USD".into(), 131_009),
        (format!("{p}/total_amount/value"), 85_001.into(), 131_009),
        (format!("{p}/total_amount/value"), json!(85000.0), 100),
        (format!("{p}/total_amount/value"), "85000".into(), 100),
        (format!("{p}/total_amount/offset"), 1000.into(), 131_009),
        (format!("{p}/total_amount/offset"), Value::Null, 131_008),
        (format!("{p}/order/status"), "processing".into(), 131_009),
        (format!("{p}/order/type"), "slow_pay".into(), 131_009),
        (format!("{p}/order/items"), json!([]), 131_009),
        (format!("{p}/order/subtotal"), Value::Null, 131_008),
        (format!("{p}/order/tax"), Value::Null, 131_008),
        (format!("{p}/order/subtotal/value"), 90_000.into(), 131_009),
        (
            format!("{p}/order/tax/description"),
            "x".repeat(61).into(),
            131_009,
        ),
        (
            format!("{p}/order/discount"),
            json!({"value": 1, "offset": 100}),
            131_009,
        ),
        (
            format!("{p}/order/shipping"),
            json!({"value": -1, "offset": 100}),
            131_009,
        ),
        (
            format!("{p}/order/expiration"),
            json!({"timestamp": (now + 290).to_string()}),
            131_009,
        ),
        (
            format!("{p}/order/expiration"),
            json!({"timestamp": now + 3600}),
            100,
        ),
        (
            format!("{p}/order/expiration"),
            json!({"timestamp": (now + 3600).to_string(), "description": "x".repeat(121)}),
            131_009,
        ),
        (format!("{item}/name"), "x".repeat(61).into(), 131_009),
        (format!("{item}/quantity"), json!(1.5), 100),
        (format!("{item}/quantity"), 0.into(), 131_009),
        (format!("{item}/sale_amount/value"), 45_000.into(), 131_009),
        (format!("{item}/importer_adress"), json!({}), 100),
        (format!("{item}/importer_address"), "Delhi".into(), 100),
        (
            format!("{item}/image"),
            json!({"link": "https://shop.example/a.png"}),
            131_009,
        ),
        (
            format!("{p}/beneficiaries"),
            json!([{"name": "A", "address_line1": "B", "city": "C", "state": "D", "country": "India", "postal_code": "11009"}]),
            131_009,
        ),
        (format!("{p}/payment_settings"), Value::Null, 131_008),
        (format!("{p}/payment_settings"), json!([]), 131_009),
        (
            format!("{p}/payment_settings"),
            json!([gateway(), gateway()]),
            131_009,
        ),
        (format!("{setting}/type"), "cash".into(), 131_009),
        (
            format!("{setting}/payment_gateway/type"),
            "stripe".into(),
            131_009,
        ),
        (
            format!("{setting}/payment_gateway/configuration_name"),
            "x".repeat(61).into(),
            131_009,
        ),
        (format!("{setting}/payment_gateway/payu"), json!({}), 100),
        (
            format!("{setting}/payment_gateway/razorpay/receipt"),
            "x".repeat(41).into(),
            131_009,
        ),
        (
            format!("{setting}/payment_gateway/enabled_payment_options"),
            json!(["upi", "web"]),
            131_009,
        ),
        (
            format!("{setting}/payment_gateway/preferred_payment_methods"),
            json!([{"method": "gpay"}, {"method": "cred"}]),
            131_009,
        ),
        (setting.clone(), link("https://rzp.io/rzp/1"), 131_008),
        (
            setting.clone(),
            upi("upi://pay?pa=shop@bank&pn=My Shop"),
            131_009,
        ),
        (
            setting.clone(),
            upi("upi://pay?pa=shop@bank&pn=Shop&am=850.00"),
            131_009,
        ),
        (setting.clone(), upi("upi://pay?pn=Shop"), 131_009),
        (setting.clone(), upi("https://pay.example"), 131_009),
    ];
    for (pointer, value, wanted) in cases {
        let message = with(good.clone(), &pointer, value.clone());
        let (http, answer) = bench.send(&message).await;
        assert_eq!(
            (http, code(&answer)),
            (400, wanted),
            "{pointer} {value}: {answer}"
        );
        assert!(answer["error"]["fbtrace_id"].is_string());
        assert!(!details(&answer).is_empty());
    }
    // None of them used the reference up; a second right one does not get it.
    assert_eq!(bench.send(&good).await.0, 200);
    let (http, answer) = bench.send(&good).await;
    assert_eq!((http, code(&answer)), (400, 131_009));
}

#[tokio::test]
async fn every_way_of_paying_is_accepted_and_images_limit_the_items() {
    let bench = Bench::start().await;
    bench.open_window().await;
    let with_upi = with(
        interactive(order(
            "A",
            json!({
                "type": "upi_intent_link", "upi_intent_link": {"link": "upi://pay?pa=shop@bank&pn=My%20Shop&mc=5411&purpose=00&tr=A"},
            }),
        )),
        "/interactive/action/parameters/order/type",
        "quick_pay".into(),
    );
    assert_eq!(bench.send(&with_upi).await.0, 200);
    let with_link = with(
        interactive(order("B", link("https://rzp.io/rzp/1"))),
        "/interactive/action/parameters/payment_type",
        "upi".into(),
    );
    assert_eq!(bench.send(&with_link).await.0, 200);

    let pictured = |count: i64| {
        let item = json!({"name": "Bread", "quantity": 1, "amount": {"value": 100, "offset": 100}, "image": {"link": "https://shop.example/a.png"}});
        let items: Vec<Value> = (0..count).map(|_| item.clone()).collect();
        let mut parameters = order(&format!("C{count}"), gateway());
        parameters["order"]["items"] = items.into();
        parameters["order"]["subtotal"]["value"] = json!(count * 100);
        parameters["total_amount"]["value"] = json!(count * 100 + 1000);
        interactive(parameters)
    };
    assert_eq!(bench.send(&pictured(10)).await.0, 200);
    assert_eq!(code(&bench.send(&pictured(11)).await.1), 131_009);

    // The strict reading of the importer rule.
    bench
        .register(json!({}), json!({"importer_fields": "strict"}))
        .await;
    let (_, answer) = bench
        .send(&with(pictured(9), "/to", "919876543210".into()))
        .await;
    assert_eq!(code(&answer), 131_008);
    assert_eq!(bench.send(&interactive(order("D", gateway()))).await.0, 200);
}

#[tokio::test]
async fn the_samples_of_the_documents_meet_the_documents_rules() {
    let bench = Bench::start().await;
    bench.open_window().await;
    let (_, uploaded) = upload(&bench, media_form(MEDIA, Some(("image/png", &png(8, 2))))).await;
    // Their totals break the formula of their own page.
    for name in [
        "meta_req_order_details_payment_link",
        "meta_req_order_details_pg_payu",
        "meta_req_order_details_upi_intent_link",
    ] {
        let (http, answer) = bench.send(&sample(name)).await;
        assert_eq!((http, code(&answer)), (400, 131_009), "{name}");
        assert!(details(&answer).contains("subtotal"), "{name}: {answer}");
        let mut repaired = sample(name);
        repaired["interactive"]["action"]["parameters"]["reference_id"] =
            name.strip_prefix("meta_req_order_").into();
        for item in repaired
            .pointer_mut("/interactive/action/parameters/order/items")
            .unwrap()
            .as_array_mut()
            .unwrap()
        {
            item.as_object_mut().unwrap().remove("sale_amount");
        }
        // A placeholder in the sample; a picture must have been uploaded.
        if let Some(id) = repaired.pointer_mut("/interactive/header/image/id") {
            *id = uploaded["id"].clone();
        }
        let (http, answer) = bench.send(&repaired).await;
        assert_eq!(http, 200, "{name}: {answer}");
    }
    // This one is consistent, but pays the old way.
    let old = sample("meta_req_order_details_upi_legacy");
    assert_eq!(code(&bench.send(&old).await.1), 131_008);
    bench
        .register(json!({}), json!({"legacy_payment": true}))
        .await;
    assert_eq!(bench.send(&old).await.0, 200);
    assert_eq!(bench.send(&sample("meta_req_order_status")).await.0, 200);
}

#[tokio::test]
async fn outside_the_window_only_templates_arrive() {
    let bench = Bench::start().await;
    let bill = interactive(order("INV-1", gateway()));
    let (http, answer) = bench.send(&bill).await;
    assert_eq!(http, 200);
    bench.settle().await;
    let reports = bench.receiver.statuses();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0]["id"], answer["messages"][0]["id"]);
    assert_eq!(reports[0]["status"], "failed");
    assert_eq!(reports[0]["errors"][0]["code"], 131_047);
    assert_eq!(
        bench.look("customer/inbox?phone=919876543210").await["messages"],
        json!([])
    );

    bench
        .register(json!({}), json!({"window_error": "sync"}))
        .await;
    let (http, answer) = bench.send(&bill).await;
    assert_eq!((http, code(&answer)), (400, 131_047));

    // The same bill as a template: the reference is still free.
    let by_template = template(
        "bill",
        "en",
        json!([
            {"type": "body", "parameters": [{"type": "text", "text": "INV-1"}]},
            {"type": "button", "sub_type": "order_details", "index": 0,
             "parameters": [{"type": "action", "action": {"order_details": order("INV-1", gateway())}}]},
        ]),
    );
    let (http, answer) = bench.send(&by_template).await;
    assert_eq!(http, 200, "{answer}");
    assert_eq!(answer["messages"][0]["message_status"], "accepted");

    // A message opens the window, 24 hours close it.
    bench.open_window().await;
    assert_eq!(bench.send(&status("INV-1", "processing")).await.0, 200);
    bench
        .control("clock", json!({"advance_seconds": 86_401}))
        .await;
    assert_eq!(
        code(&bench.send(&status("INV-1", "shipped")).await.1),
        131_047
    );
}

#[tokio::test]
async fn templates_must_exist_and_fit() {
    let bench = Bench::start().await;
    let text = |text: &str| json!({"type": "text", "text": text});
    let body = |parameters: Vec<Value>| json!({"type": "body", "parameters": parameters});
    let button = |index: Value| {
        json!({"type": "button", "sub_type": "order_details", "index": index,
        "parameters": [{"type": "action", "action": {"order_details": order("INV-1", gateway())}}]})
    };
    let news = json!({"type": "order_status", "parameters": [{"type": "order_status",
        "order_status": {"reference_id": "INV-1", "order": {"status": "completed"}}}]});
    for (message, http_wanted, wanted) in [
        (template("bill", "hi", json!([])), 404, 132_001),
        (template("nothing", "en", json!([])), 404, 132_001),
        (template("paused", "en", json!([])), 400, 132_015),
        (
            template("bill", "en", json!([body(vec![]), button(json!(0))])),
            400,
            132_000,
        ),
        (
            template(
                "bill",
                "en",
                json!([body(vec![text("a"), text("b")]), button(json!(0))]),
            ),
            400,
            132_000,
        ),
        (
            template("bill", "en", json!([body(vec![text("a")])])),
            400,
            131_008,
        ),
        (
            template(
                "bill",
                "en",
                json!([body(vec![text("a\nb")]), button(json!(0))]),
            ),
            400,
            132_012,
        ),
        (
            template(
                "bill",
                "en",
                json!([body(vec![json!({"type": "currency"})]), button(json!(0))]),
            ),
            400,
            132_012,
        ),
        (
            template(
                "bill",
                "en",
                json!([body(vec![text("a")]), button(json!(1))]),
            ),
            400,
            131_009,
        ),
        (
            template("bill", "en", json!([body(vec![text("a")]), news])),
            400,
            132_012,
        ),
        (
            template(
                "receipt",
                "en",
                json!([body(vec![text("a"), text("b")]), button(json!(0))]),
            ),
            400,
            132_012,
        ),
        (
            template(
                "receipt",
                "en",
                json!([{"type": "header", "parameters": [text("a")]}, body(vec![text("a"), text("b")])]),
            ),
            400,
            132_012,
        ),
        (template("status", "en", json!([])), 400, 131_008),
    ] {
        let (http, answer) = bench.send(&message).await;
        assert_eq!(
            (http, code(&answer)),
            (http_wanted, wanted),
            "{message}: {answer}"
        );
    }
    assert_eq!(
        bench
            .send(&template(
                "receipt",
                "en",
                json!([body(vec![text("a"), text("b")])])
            ))
            .await
            .0,
        200
    );
    assert_eq!(
        bench
            .send(&template(
                "bill",
                "en",
                json!([body(vec![text("a")]), button(json!("0"))])
            ))
            .await
            .0,
        200
    );
    assert_eq!(
        bench.send(&template("status", "en", json!([news]))).await.0,
        200
    );
    bench.settle().await;
    assert!(
        bench
            .receiver
            .statuses()
            .iter()
            .all(|report| report["status"] != "failed")
    );
}

#[tokio::test]
async fn order_statuses_follow_the_transitions() {
    let bench = Bench::start().await;
    bench.open_window().await;
    assert_eq!(
        code(&bench.send(&status("INV-1", "pending")).await.1),
        131_009
    );
    assert_eq!(
        code(&bench.send(&status("INV-1", "partially-shipped")).await.1),
        131_009
    );
    bench.send(&interactive(order("INV-1", gateway()))).await;
    for (word, error) in [
        ("processing", None),
        ("shipped", None),
        ("partially_shipped", None),
        ("completed", None),
        ("shipped", Some(2046)),
        ("canceled", Some(2046)),
    ] {
        let (http, answer) = bench.send(&status("INV-1", word)).await;
        assert_eq!(http, 200);
        bench.settle().await;
        let report = bench.receiver.statuses().pop().unwrap();
        assert_eq!(report["id"], answer["messages"][0]["id"]);
        assert_eq!(report["errors"][0]["code"].as_i64(), error, "{word}");
    }
    bench.send(&status("INV-9", "processing")).await;
    bench.settle().await;
    assert_eq!(
        bench.receiver.statuses().pop().unwrap()["errors"][0]["code"],
        2046
    );

    bench.send(&interactive(order("INV-2", gateway()))).await;
    bench
        .control(
            "customer/pay",
            json!({"vendor": "meta", "reference_id": "INV-2"}),
        )
        .await;
    bench.send(&status("INV-2", "canceled")).await;
    bench.settle().await;
    assert_eq!(
        bench.receiver.statuses().pop().unwrap()["errors"][0]["code"],
        2047
    );

    bench.send(&interactive(order("INV-3", gateway()))).await;
    bench.send(&status("INV-3", "canceled")).await;
    let refused = bench
        .control_refused(
            "customer/pay",
            json!({"vendor": "meta", "reference_id": "INV-3"}),
        )
        .await;
    assert_eq!(refused, (409, "order_canceled".to_owned()));
}

#[tokio::test]
async fn gateway_payments_are_reported_looked_up_and_refunded() {
    let bench = Bench::start().await;
    bench.open_window().await;
    bench.send(&interactive(order("INV-1", gateway()))).await;
    let path = "/106540352242922/payments/shop%20pay/INV-1";
    let (_, answer) = bench.meta("GET", path, None).await;
    assert_eq!(answer["payments"][0]["status"], "pending");
    assert_eq!(answer["payments"][0].get("transactions"), None);

    let pay = json!({"vendor": "meta", "reference_id": "INV-1"});
    bench.control("customer/fail", pay.clone()).await;
    let done = bench.control("customer/pay", pay.clone()).await;
    bench.settle().await;
    let reports: Vec<Value> = bench
        .receiver
        .statuses()
        .into_iter()
        .filter(|report| report["type"] == "payment")
        .collect();
    assert_eq!(reports[0]["status"], "pending");
    assert_eq!(reports[0]["payment"]["transaction"]["status"], "failed");
    assert!(reports[0]["payment"]["transaction"]["error"]["code"].is_string());
    let captured = &reports[1];
    assert_eq!(captured["status"], "captured");
    assert_eq!(captured["recipient_id"], "919876543210");
    let payment = &captured["payment"];
    assert_eq!(payment["amount"], json!({"value": 85000, "offset": 100}));
    assert_eq!(payment["currency"], "INR");
    assert_eq!(payment["receipt"], "receipt-value");
    assert_eq!(payment["notes"], json!({"key1": "value1"}));
    assert_eq!(payment["transaction"]["status"], "success");
    assert_eq!(
        payment["transaction"]["pg_transaction_id"],
        done["pg_transaction_id"]
    );
    assert_eq!(
        bench.control_refused("customer/pay", pay).await,
        (409, "already_paid".to_owned())
    );

    let (_, answer) = bench.meta("GET", path, None).await;
    assert_eq!(answer["payments"][0]["status"], "captured");
    assert_eq!(
        answer["payments"][0]["transactions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let (http, answer) = bench
        .meta("GET", "/106540352242922/payments/shop%20pay/INV-2", None)
        .await;
    assert_eq!(http, 500);
    assert_eq!(answer["errors"][0]["title"], "Generic error");

    let refund = |value: Value, offset: Value| {
        json!({
            "reference_id": "INV-1", "speed": "normal", "payment_config_id": "shop pay",
            "amount": {"currency": "INR", "value": value, "offset": offset},
        })
    };
    let path = "/106540352242922/payments_refund";
    for (body, wanted) in [
        (refund(json!(100), json!("100")), 100),
        (refund(json!("100"), json!(100)), 100),
        (refund(json!("85001"), json!("100")), 131_009),
        (refund(json!("0"), json!("100")), 131_009),
    ] {
        let (http, answer) = bench.meta("POST", path, Some(body)).await;
        assert_eq!((http, code(&answer)), (400, wanted));
    }
    let (_, answer) = bench
        .meta("POST", path, Some(refund(json!("85000"), json!("100"))))
        .await;
    assert_eq!(answer["status"], "completed");
    bench.settle().await;
    let refunds = bench.receiver.statuses().pop().unwrap()["payment"]["refunds"].clone();
    assert_eq!(refunds[0]["status"], "success");
    let (_, answer) = bench
        .meta("POST", path, Some(refund(json!("1"), json!("100"))))
        .await;
    assert_eq!(code(&answer), 131_009);
}

#[tokio::test]
async fn a_wrong_configuration_is_seen_only_by_the_customer() {
    let bench = Bench::start().await;
    bench.open_window().await;
    for (reference, name) in [("A", "nothing"), ("B", "asleep")] {
        let mut payment = gateway();
        payment["payment_gateway"]["configuration_name"] = name.into();
        assert_eq!(
            bench.send(&interactive(order(reference, payment))).await.0,
            200
        );
        let refused = bench
            .control_refused(
                "customer/pay",
                json!({"vendor": "meta", "reference_id": reference}),
            )
            .await;
        assert_eq!(refused, (409, "cannot_pay".to_owned()));
    }
    let (_, answer) = bench
        .meta("GET", "/102290129340398/payment_configurations", None)
        .await;
    assert_eq!(
        answer["data"][0]["payment_configurations"][1]["status"],
        "Needs_Testing"
    );
    let (_, answer) = bench
        .meta(
            "GET",
            "/102290129340398/payment_configuration/shop%20pay",
            None,
        )
        .await;
    assert_eq!(answer["data"][0]["provider_name"], "razorpay");
}

#[tokio::test]
async fn paying_a_message_with_a_link_goes_on_at_the_gateway() {
    let bench = Bench::start().await;
    bench.open_window().await;
    let (_, gateways) = bench
        .razorpay(
            "POST",
            "/v1/payment_links",
            Some(json!({"amount": 85000, "reference_id": "INV-1"})),
        )
        .await;
    let short_url = gateways["short_url"].as_str().unwrap();
    let bill = with(
        interactive(order("INV-1", link(short_url))),
        "/interactive/action/parameters/payment_type",
        "upi".into(),
    );
    assert_eq!(bench.send(&bill).await.0, 200);
    let done = bench
        .control(
            "customer/pay",
            json!({"vendor": "meta", "reference_id": "INV-1"}),
        )
        .await;
    assert_eq!(done["vendor"], "razorpay");
    let received = bench
        .look("received?vendor=meta&operation=send_message&reference_id=INV-1")
        .await;
    assert_eq!(received["count"], 1);
    assert_eq!(received["received"][0].get("warnings"), None);

    // A message that disagrees with its link is on record as such.
    let bill = with(
        interactive(order("INV-1-2", link(short_url))),
        "/interactive/action/parameters/payment_type",
        "upi".into(),
    );
    bench.send(&bill).await;
    let received = bench.look("received?reference_id=INV-1-2").await;
    assert_eq!(
        received["received"][0]["warnings"],
        json!(["the link's reference is \"INV-1\""])
    );
}

#[tokio::test]
async fn expired_orders_and_too_large_upi_payments_cannot_be_paid() {
    let bench = Bench::start().await;
    bench.open_window().await;
    let now = bench.now().await;
    let timed = with(
        interactive(order("A", gateway())),
        "/interactive/action/parameters/order/expiration",
        json!({"timestamp": (now + 600).to_string()}),
    );
    assert_eq!(bench.send(&timed).await.0, 200);
    bench
        .control("clock", json!({"advance_seconds": 700}))
        .await;
    let pay = json!({"vendor": "meta", "reference_id": "A"});
    assert_eq!(
        bench.control_refused("customer/pay", pay).await.1,
        "order_expired"
    );

    let mut large = order("B", gateway());
    large["order"]["items"][0]["quantity"] = 1200.into();
    large["order"]["subtotal"]["value"] = 50_400_000.into();
    large["total_amount"]["value"] = 50_401_000.into();
    assert_eq!(bench.send(&interactive(large.clone())).await.0, 200);
    let pay = json!({"vendor": "meta", "reference_id": "B"});
    assert_eq!(
        bench.control_refused("customer/pay", pay).await.1,
        "over_the_upi_cap"
    );
    large["reference_id"] = "C".into();
    large["payment_settings"][0]["payment_gateway"]["enabled_payment_options"] = json!(["web"]);
    bench.send(&interactive(large)).await;
    bench
        .control(
            "customer/pay",
            json!({"vendor": "meta", "reference_id": "C"}),
        )
        .await;
}

#[tokio::test]
async fn the_webhook_url_is_verified() {
    let bench = Bench::start().await;
    let right = bench
        .control("webhooks/verify", json!({"challenge": "1158201444"}))
        .await;
    assert_eq!(
        right,
        json!({"status": 200, "body": "1158201444", "verified": true})
    );
    let wrong = bench
        .control("webhooks/verify", json!({"verify_token": "guess"}))
        .await;
    assert_eq!(
        (&wrong["status"], &wrong["verified"]),
        (&json!(403), &json!(false))
    );
}

#[tokio::test]
async fn some_phones_are_not_on_whatsapp() {
    let bench = Bench::start().await;
    bench.open_window().await;
    bench
        .control(
            "customer/phone",
            json!({"phone": "+919876543210", "whatsapp": false}),
        )
        .await;
    assert_eq!(bench.send(&interactive(order("A", gateway()))).await.0, 200);
    bench.settle().await;
    assert_eq!(
        bench.receiver.statuses().pop().unwrap()["errors"][0]["code"],
        131_026
    );
}

#[tokio::test]
async fn a_payment_inside_whatsapp_shows_in_the_gateways_account() {
    let bench = Bench::start().await;
    bench
        .register(
            json!({}),
            json!({"configurations": [{"configuration_name": "shop pay", "provider_name": "razorpay", "gateway_account": "rzp_test_shop"}]}),
        )
        .await;
    bench.open_window().await;
    bench.send(&interactive(order("INV-1", gateway()))).await;
    let done = bench
        .control(
            "customer/pay",
            json!({"vendor": "meta", "reference_id": "INV-1"}),
        )
        .await;
    let id = done["pg_transaction_id"].as_str().unwrap();
    let (_, payment) = bench
        .razorpay("GET", &format!("/v1/payments/{id}"), None)
        .await;
    assert_eq!(payment["status"], "captured");
    assert_eq!(payment["notes"], json!({"key1": "value1"}));
    bench.settle().await;
    assert_eq!(bench.receiver.events(), ["payment.captured", "order.paid"]);

    // A refund on either side is seen on both, and the sum holds over both.
    let (_, refund) = bench
        .razorpay(
            "POST",
            &format!("/v1/payments/{id}/refund"),
            Some(json!({"amount": 5000})),
        )
        .await;
    let at_meta = |value: &str| {
        json!({"reference_id": "INV-1", "payment_config_id": "shop pay",
            "amount": {"currency": "INR", "value": value, "offset": "100"}})
    };
    let path = "/106540352242922/payments_refund";
    let (_, answer) = bench.meta("POST", path, Some(at_meta("80001"))).await;
    assert_eq!(code(&answer), 131_009);
    let (http, _) = bench.meta("POST", path, Some(at_meta("80000"))).await;
    assert_eq!(http, 200);
    let (_, answer) = bench
        .meta("GET", "/106540352242922/payments/shop%20pay/INV-1", None)
        .await;
    let refunds = &answer["payments"][0]["transactions"][0]["refunds"];
    assert_eq!(refunds[0]["id"], refund["id"]);
    assert_eq!(refunds[1]["status"], "success");
    let (_, payment) = bench
        .razorpay("GET", &format!("/v1/payments/{id}"), None)
        .await;
    assert_eq!(payment["refund_status"], "full");
}

/// The beginning of a PNG of this depth and colour type, which is all the sandbox looks at.
fn png(depth: u8, colour: u8) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\0\0\0\x01\0".to_vec();
    png.extend([depth, colour, 0, 0, 0]);
    // What a reader of text would stumble over.
    png.extend(b"\r\n--other\xff\xfe\r\n\r\n");
    png
}

/// A form as curl writes it; `file` is its declared type and content.
fn media_form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    if let Some((kind, content)) = file {
        body.extend(
            format!("--xx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"qr.png\"\r\nContent-Type: {kind}\r\n\r\n")
                .bytes(),
        );
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(b"--xx--\r\n");
    body
}

async fn upload(bench: &Bench, body: Vec<u8>) -> (u16, Value) {
    let (http, text) = bench
        .post(
            "/meta/106540352242922/media",
            &[
                ("authorization", "Bearer token"),
                ("content-type", "multipart/form-data; boundary=xx"),
            ],
            body,
        )
        .await;
    (http, serde_json::from_str(&text).unwrap())
}

const MEDIA: &[(&str, &str)] = &[("messaging_product", "whatsapp"), ("type", "image/png")];

#[tokio::test]
async fn pictures_are_uploaded_and_head_a_bill() {
    let bench = Bench::start().await;
    bench.open_window().await;
    let (http, answer) = upload(&bench, media_form(MEDIA, Some(("image/png", &png(8, 2))))).await;
    assert_eq!(http, 200, "{answer}");
    let id = answer["id"].as_str().unwrap().to_owned();
    let received = bench.look("received?operation=upload_media").await;
    assert_eq!(
        received["received"][0]["body"],
        json!({"messaging_product": "whatsapp", "type": "image/png", "file": "qr.png (image/png, 44 bytes)"})
    );
    let headed = |reference: &str, id: &str| {
        let mut message = interactive(order(reference, gateway()));
        message["interactive"]["header"] = json!({"type": "image", "image": {"id": id}});
        message
    };
    let (http, answer) = bench.send(&headed("INV-1", &id)).await;
    assert_eq!(http, 200, "{answer}");
    let (_, answer) = bench.send(&headed("INV-2", "1234567890123456")).await;
    assert_eq!(code(&answer), 131_009);
    let mut video = headed("INV-3", &id);
    video["interactive"]["header"] = json!({"type": "video", "video": {"id": id}});
    assert_eq!(code(&bench.send(&video).await.1), 131_009);
    // "Persist for 30 days".
    bench
        .control("clock", json!({"advance_seconds": 30 * 24 * 3600}))
        .await;
    bench.open_window().await;
    let (_, answer) = bench.send(&headed("INV-4", &id)).await;
    assert!(details(&answer).contains("no media"), "{answer}");
}

#[tokio::test]
async fn pictures_whatsapp_cannot_show_are_refused() {
    let bench = Bench::start().await;
    let good = png(8, 2);
    for (body, wanted) in [
        (media_form(MEDIA, Some(("image/png", &png(8, 6)))), 0),
        (media_form(MEDIA, Some(("image/png", &png(1, 0)))), 131_053),
        (media_form(MEDIA, Some(("image/png", &png(8, 0)))), 131_053),
        (media_form(MEDIA, Some(("image/png", &png(8, 3)))), 131_053),
        (media_form(MEDIA, Some(("image/png", &png(16, 2)))), 131_053),
        (media_form(MEDIA, Some(("image/png", b"GIF89a"))), 131_053),
        (media_form(MEDIA, Some(("image/webp", &good))), 100),
        (media_form(MEDIA, Some(("image/jpeg", &good))), 100),
        (
            media_form(
                &[("messaging_product", "whatsapp"), ("type", "image/gif")],
                Some(("image/gif", &good)),
            ),
            100,
        ),
        (media_form(&MEDIA[..1], Some(("image/png", &good))), 100),
        (media_form(&MEDIA[1..], Some(("image/png", &good))), 100),
        (
            media_form(
                &[("messaging_product", "telegram"), ("type", "image/png")],
                Some(("image/png", &good)),
            ),
            100,
        ),
        (media_form(MEDIA, None), 100),
        (b"{}".to_vec(), 100),
        // Cut off.
        (
            media_form(MEDIA, Some(("image/png", &good)))
                .strip_suffix(b"--\r\n")
                .unwrap()
                .to_vec(),
            100,
        ),
    ] {
        let (http, answer) = upload(&bench, body).await;
        assert_eq!(
            (http == 200, code(&answer)),
            (wanted == 0, wanted),
            "{answer}"
        );
    }
    bench
        .control("faults", json!({"vendor": "meta", "operation": "upload_media", "kind": "status", "status": 429, "code": 130_429, "headers": {"Retry-After": "3"}}))
        .await;
    let (http, answer) = upload(&bench, media_form(MEDIA, Some(("image/png", &good)))).await;
    assert_eq!((http, code(&answer)), (429, 130_429));
}

#[tokio::test]
async fn customers_write_tap_and_hide_their_numbers() {
    let bench = Bench::start().await;
    let last = || bench.receiver.got().pop().unwrap().body["entry"][0]["changes"][0].clone();
    let phone = "+919876543210";
    for (said, pointer, wanted) in [
        (
            json!({"text": "STOP"}),
            "/value/messages/0/text/body",
            "STOP",
        ),
        (
            json!({"button": "Unsubscribe"}),
            "/value/messages/0/button/text",
            "Unsubscribe",
        ),
        (
            json!({"reply_button": "Start"}),
            "/value/messages/0/interactive/button_reply/title",
            "Start",
        ),
    ] {
        let mut request = said;
        request["phone"] = json!(phone);
        bench.control("customer/message", request).await;
        bench.settle().await;
        let change = last();
        assert_eq!(change.pointer(pointer).unwrap(), wanted);
        assert_eq!(change["value"]["messages"][0]["from"], "919876543210");
        assert_eq!(change["value"]["contacts"][0]["wa_id"], "919876543210");
    }
    bench
        .control(
            "customer/message",
            json!({"phone": phone, "marketing": "stop"}),
        )
        .await;
    bench.settle().await;
    let change = last();
    assert_eq!(change["field"], "user_preferences");
    assert_eq!(change["value"]["user_preferences"][0]["value"], "stop");
    let refused = bench
        .control_refused(
            "customer/message",
            json!({"phone": phone, "marketing": "perhaps"}),
        )
        .await;
    assert_eq!(refused.0, 400);

    bench
        .control("customer/phone", json!({"phone": phone, "username": true}))
        .await;
    bench
        .control("customer/message", json!({"phone": phone, "text": "Hi"}))
        .await;
    bench.send(&interactive(order("INV-1", gateway()))).await;
    bench
        .control(
            "customer/pay",
            json!({"vendor": "meta", "reference_id": "INV-1"}),
        )
        .await;
    bench.settle().await;
    let hidden: Vec<Value> = bench
        .receiver
        .got()
        .into_iter()
        .skip(4)
        .map(|got| got.body["entry"][0]["changes"][0]["value"].clone())
        .collect();
    assert!(!json!(hidden).to_string().contains("9876543210"));
    let user = hidden[0]["contacts"][0]["user_id"].as_str().unwrap();
    assert!(user.starts_with("IN."));
    assert_eq!(hidden[0]["contacts"][0].get("wa_id"), None);
    assert_eq!(hidden[0]["messages"][0].get("from"), None);
    for status in bench.receiver.statuses() {
        assert_eq!(status.get("recipient_id"), None);
        assert_eq!(status["recipient_user_id"], user);
    }
    assert_eq!(bench.receiver.statuses().len(), 3);
}
