//! Meta's WhatsApp Cloud API.

use chatbill_domain::bill::Header;
use chatbill_domain::connector::{Channel, Notice, SendStep, Signal, Trust, Wish};
use chatbill_domain::contact::Msisdn;
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Obstacle, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::message::{
    Checkout, Content, Form, Fulfilment, MessageKey, Outgoing, Progress, QrCode, Remedy, Report,
    SendFailure, Template, Variable,
};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Found, PaymentMode, RefundReport, RefundRequest, RefundStatus, Speed,
};
use chatbill_domain::phone::Country;
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use serde_json::{Value, json};

use crate::support::{
    Letter, Probe, bill, bytes, fixture, full_bill, printed, reply, small_bill, tenant,
};

const SECRET: &str = "app_secret_1";
const NUMBER: &str = "106540352242922";

fn settings() -> Value {
    json!({
        "kind": "whatsapp", "provider": "meta", "from": "+918045210677",
        "credentials": {"phone_number_id": NUMBER, "waba_id": "102290129340398", "access_token": "EAAtoken",
                        "app_secrets": ["newer", SECRET], "verify_token": "verify-me"},
    })
}

fn payment() -> Value {
    json!({"mode": "payment_gateway", "gateway": "razorpay", "configuration_name": "shop / test", "credentials": {}})
}

fn channel() -> Box<dyn Channel> {
    chatbill_channels::open(&tenant(&settings(), &payment())).unwrap()
}

fn signed(body: Vec<u8>) -> RawWebhook {
    let signature = format!(
        "sha256={}",
        hex::encode(hmac_sha256(SECRET.as_bytes(), &body))
    );
    RawWebhook {
        headers: vec![("x-hub-signature-256".into(), signature)],
        query: vec![],
        body,
    }
}

pub(crate) fn probe() -> Probe {
    let webhook = signed(bytes("meta/wh_payment_captured.json"));
    let mut tampered = webhook.clone();
    tampered.body.push(b' ');
    Probe {
        tenant: tenant(&settings(), &payment()),
        webhook,
        tampered,
        calls: &[
            "invoice_link_full",
            "invoice_link_small",
            "invoice_configuration_razorpay",
            "invoice_configuration_payu",
            "invoice_configuration_zaakpay",
            "invoice_configuration_billdesk",
            "invoice_intent",
            "invoice_template",
            "invoice_template_header",
            "invoice_template_plain",
            "status",
            "status_template",
            "receipt",
            "receipt_template",
            "lookup_payment",
            "invoice_qr_link",
            "invoice_template_qr_link",
            "upload_media",
            "invoice_qr_uploaded",
            "invoice_template_qr_uploaded",
            "lookup_refund",
            "refund",
            "payment_configurations",
        ],
    }
}

const LINK: Checkout<'static> = Checkout::Link {
    url: "https://rzp.io/i/nxrHnLJ",
};

fn invoice(payment: Checkout<'_>) -> Content<'_> {
    Content::Invoice { payment }
}

fn call(message: &Outgoing<'_>) -> HttpCall {
    match channel().send(message, &[]) {
        SendStep::Call(call) => *call,
        other => panic!("{other:?}"),
    }
}

fn body(message: &Outgoing<'_>) -> Value {
    serde_json::from_slice(&call(message).body.unwrap().1).unwrap()
}

fn template(parameters: &[Variable]) -> Template {
    Template {
        name: "bill_v1".into(),
        language: "en".into(),
        parameters: parameters.to_vec(),
        media_header: false,
        standard_picture: None,
    }
}

#[test]
fn the_calls() {
    let full = Letter::new(bill(&full_bill()));
    let small = Letter::new(bill(&small_bill()));
    let show = |message: &Outgoing<'_>| printed(&call(message));
    insta::assert_json_snapshot!(
        "invoice_link_full",
        show(&full.outgoing(invoice(LINK), None))
    );
    insta::assert_json_snapshot!(
        "invoice_link_small",
        show(&small.outgoing(invoice(LINK), None))
    );
    for gateway in ["razorpay", "payu", "zaakpay", "billdesk"] {
        let way = Checkout::Configuration {
            gateway,
            name: "shop / test",
        };
        insta::assert_json_snapshot!(
            format!("invoice_configuration_{gateway}"),
            show(&full.outgoing(invoice(way), None))
        );
    }
    let intent = Checkout::Intent {
        uri: "upi://pay?pa=shop@bank&pn=Acme%20Stores&am=10.00&cu=INR&mc=5411&tr=BM345A-12",
    };
    insta::assert_json_snapshot!(
        "invoice_intent",
        show(&small.outgoing(invoice(intent), None))
    );
    let form = template(&[
        Variable::CustomerName,
        Variable::Amount,
        Variable::ReferenceId,
    ]);
    insta::assert_json_snapshot!(
        "invoice_template",
        show(&full.outgoing(invoice(LINK), Some(&form)))
    );
    let pictured = Template {
        media_header: true,
        standard_picture: None,
        ..template(&[])
    };
    insta::assert_json_snapshot!(
        "invoice_template_header",
        show(&full.outgoing(invoice(LINK), Some(&pictured)))
    );
    let plain = template(&[]);
    insta::assert_json_snapshot!(
        "invoice_template_plain",
        show(&small.outgoing(invoice(LINK), Some(&plain)))
    );
    let status = || Content::Status {
        status: Fulfilment::PartiallyShipped,
        description: Some("The rest follows tomorrow"),
        text: "Your order BM345A-12 is partially shipped.".into(),
    };
    insta::assert_json_snapshot!("status", show(&small.outgoing(status(), None)));
    let form = template(&[Variable::Shop, Variable::Status]);
    insta::assert_json_snapshot!(
        "status_template",
        show(&small.outgoing(status(), Some(&form)))
    );
    let receipt = || Content::Receipt {
        text: "Thank you!".into(),
    };
    insta::assert_json_snapshot!("receipt", show(&small.outgoing(receipt(), None)));
    let form = template(&[Variable::ReceiptUrl]);
    insta::assert_json_snapshot!(
        "receipt_template",
        show(&small.outgoing(receipt(), Some(&form)))
    );
    let Step::Call(lookup) = channel().lookup_payment(&ReferenceId::parse("INV-1").unwrap(), &[])
    else {
        panic!()
    };
    insta::assert_json_snapshot!("lookup_payment", printed(&lookup));
}

/// The bill of the documents' samples. Their totals do not add up, so it cannot be posted; it is put together by hand.
fn sample_letter() -> Letter {
    let mut document = small_bill();
    document["reference_id"] = json!("reference-id-value");
    let origin = full_bill()["items"][0].clone();
    document["items"] = json!([1, 2].map(|_| json!({
        "name": "Product name, for example bread", "quantity": 1,
        "amount": {"value": 10000, "offset": 100}, "sale_amount": {"value": 100, "offset": 100},
        "country_of_origin": "country-of-origin", "importer_name": "name-of-importer-business",
        "importer_address": origin["importer_address"],
    })));
    let charge = json!({"value": 1000, "offset": 100, "description": "optional_text"});
    document["tax"] = charge.clone();
    document["shipping"] = charge;
    document["discount"] = json!({"value": 1000, "offset": 100, "description": "optional_text", "discount_program_name": "optional_text"});
    document["body"] = json!("your-text-body-content");
    document["footer"] = json!("your-text-footer-content");
    for (field, value) in [
        ("udf1", "value1"),
        ("udf2", "value2"),
        ("udf3", "value3"),
        ("udf4", "value4"),
    ] {
        document[field] = json!(value);
    }
    let mut bill = bill(&document);
    bill.subtotal = Paise::new(20_000).unwrap();
    bill.total = Paise::new(21_000).unwrap();
    bill.header = Some(Header::Image("https://the-url".into()));
    Letter::new(bill)
}

#[test]
fn the_documents_samples_are_produced() {
    let letter = sample_letter();
    let payu = Checkout::Configuration {
        gateway: "payu",
        name: "payment-config-id",
    };
    let intent = Checkout::Intent {
        uri: "upi://pay?pa=merchant_vpa&pn=merchant%20Name&mc=mc_code&purpose=purpose_code&tr=transaction_record",
    };
    let link = Checkout::Link {
        url: "https://the-payment-link",
    };
    for (name, way) in [
        ("req_order_details_pg_payu", payu),
        ("req_order_details_upi_intent_link", intent),
        ("req_order_details_payment_link", link),
    ] {
        let mut sample = fixture(&format!("meta/{name}.json"));
        let mut ours = body(&letter.outgoing(invoice(way), None));
        // Ours, for finding the order again.
        assert_eq!(
            ours.as_object_mut()
                .unwrap()
                .remove("biz_opaque_callback_data"),
            Some(json!("1:reference-id-value:invoice.1:1:acme"))
        );
        // A placeholder in the samples; our bills bring their headers as links.
        let description = "/interactive/action/parameters/order/expiration/description";
        *sample.pointer_mut(description).unwrap() = ours.pointer(description).unwrap().clone();
        sample["interactive"]["header"] =
            json!({"type": "image", "image": {"link": "https://the-url"}});
        assert_eq!(ours, sample, "{name}");
    }
}

#[test]
fn the_openapi_sample_s_order_is_produced() {
    let sample = fixture("meta/req_order_details_upi_legacy.json");
    let parameters = &sample["interactive"]["action"]["parameters"];
    let order = &parameters["order"];
    let mut document = small_bill();
    document["reference_id"] = parameters["reference_id"].clone();
    document["total_amount"] = parameters["total_amount"].clone();
    for field in ["items", "tax", "shipping", "discount"] {
        document[field] = order[field].clone();
    }
    let mut letter = Letter::new(bill(&document));
    letter.seconds_left = 0;
    let ours = body(&letter.outgoing(invoice(LINK), None));
    assert_eq!(&ours["interactive"]["action"]["parameters"]["order"], order);
    assert_eq!(
        ours["interactive"]["action"]["parameters"]["total_amount"],
        parameters["total_amount"]
    );
}

#[test]
fn the_order_status_sample_is_produced() {
    let letter = sample_letter();
    let content = Content::Status {
        status: Fulfilment::Processing,
        description: Some("optional-text"),
        text: "your-text-body-content".into(),
    };
    let mut ours = body(&letter.outgoing(content, None));
    ours.as_object_mut()
        .unwrap()
        .remove("biz_opaque_callback_data");
    assert_eq!(ours, fixture("meta/req_order_status.json"));
}

#[test]
fn totals_on_the_wire_add_up() {
    let letter = Letter::new(bill(&full_bill()));
    let parameters =
        body(&letter.outgoing(invoice(LINK), None))["interactive"]["action"]["parameters"].clone();
    let order = &parameters["order"];
    let value = |amount: &Value| {
        assert_eq!(amount["offset"], 100);
        amount["value"].as_i64().unwrap()
    };
    let items: i64 = order["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| {
            value(i.get("sale_amount").unwrap_or(&i["amount"])) * i["quantity"].as_i64().unwrap()
        })
        .sum();
    assert_eq!(items, value(&order["subtotal"]));
    assert_eq!(
        value(&order["subtotal"]) + value(&order["tax"]) + value(&order["shipping"])
            - value(&order["discount"]),
        value(&parameters["total_amount"])
    );
}

#[test]
fn an_end_too_close_is_left_out() {
    let mut letter = Letter::new(bill(&small_bill()));
    for (left, kept) in [
        (1800, true),
        (330, true),
        (329, false),
        (0, false),
        (-5, false),
    ] {
        letter.seconds_left = left;
        let order = body(&letter.outgoing(invoice(LINK), None))["interactive"]["action"]["parameters"]["order"].clone();
        assert_eq!(order.get("expiration").is_some(), kept, "{left}");
        if kept {
            assert_eq!(order["expiration"]["timestamp"], "1798761600");
        }
    }
}

#[test]
fn texts_keep_their_limits() {
    let letter = Letter::new(bill(&small_bill()));
    let long = "ä".repeat(3000);
    let content = Content::Status {
        status: Fulfilment::Shipped,
        description: Some(&long),
        text: long.clone(),
    };
    let ours = body(&letter.outgoing(content, None));
    let length = |pointer: &str| {
        ours.pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .chars()
            .count()
    };
    assert_eq!(length("/interactive/body/text"), 1024);
    assert_eq!(
        length("/interactive/action/parameters/order/description"),
        120
    );
    let content = Content::Receipt {
        text: "See https://shop.example/r/token".into(),
    };
    assert_eq!(
        body(&letter.outgoing(content, None))["text"]["body"],
        "See https://shop.example/r/token"
    );
}

#[test]
fn pending_is_not_an_order_status() {
    let letter = Letter::new(bill(&small_bill()));
    let content = Content::Status {
        status: Fulfilment::Pending,
        description: None,
        text: "x".into(),
    };
    let step = channel().send(&letter.outgoing(content, None), &[]);
    assert!(
        matches!(
            step,
            SendStep::Failed(SendFailure {
                remedy: Remedy::GiveUp,
                ..
            })
        ),
        "{step:?}"
    );
}

#[test]
fn an_sms_is_not_sent_as_something_else() {
    let letter = Letter::new(bill(&small_bill()));
    for qr in [None, Some(QrCode::Png(PNG))] {
        let out = Outgoing {
            form: Form::Sms,
            qr,
            ..letter.outgoing(invoice(LINK), None)
        };
        assert!(matches!(
            channel().send(&out, &[]),
            SendStep::Failed(SendFailure {
                remedy: Remedy::GiveUp,
                ..
            })
        ));
    }
}

fn answered(answer: Answer) -> Result<String, SendFailure> {
    let letter = Letter::new(bill(&small_bill()));
    match channel().send(&letter.outgoing(invoice(LINK), None), &[answer]) {
        SendStep::Sent { id, segments: None } => Ok(id),
        SendStep::Sent { .. } => panic!("not an SMS"),
        SendStep::Failed(failure) => Err(failure),
        SendStep::Call(call) => panic!("{call:?}"),
    }
}

fn raw(status: u16, retry_after: Option<u32>, body: &str) -> Answer {
    Answer::Reply(HttpReply {
        status,
        retry_after,
        body: body.as_bytes().to_vec(),
    })
}

#[test]
fn an_accepted_message_gives_its_id() {
    let sent = fixture("meta/resp_message_sent.json");
    assert_eq!(
        answered(reply(200, &sent)).unwrap(),
        "wamid.HBgLMTY1MDUwNzY1MjAVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA"
    );
}

#[test]
fn the_documents_errors_are_classified() {
    let mut seen = serde_json::Map::new();
    for (name, status) in [
        ("err_130429", 429),
        ("err_134011_tos", 400),
        ("err_100_media_type", 400),
    ] {
        let failure = answered(reply(status, &fixture(&format!("meta/{name}.json")))).unwrap_err();
        assert!(failure.detail.chars().count() <= 200);
        seen.insert(name.into(), serde_json::to_value(failure).unwrap());
    }
    insta::assert_json_snapshot!("errors", Value::Object(seen));
}

/// Every code of Meta's "Cloud API error codes" that can meet us, and what it calls for.
const CODES: &[(i64, Remedy)] = &[
    (0, Remedy::Alert),
    (1, Remedy::RetryOnce),
    (2, Remedy::Retry),
    (3, Remedy::Alert),
    (4, Remedy::Throttled(5)),
    (10, Remedy::Alert),
    (33, Remedy::GiveUp),
    (100, Remedy::GiveUp),
    (190, Remedy::Alert),
    (200, Remedy::Alert),
    (250, Remedy::Alert),
    (299, Remedy::Alert),
    (368, Remedy::Alert),
    (2046, Remedy::GiveUp),
    (2047, Remedy::GiveUp),
    (80_007, Remedy::Throttled(5)),
    (130_429, Remedy::Throttled(2)),
    (130_472, Remedy::GiveUp),
    (130_497, Remedy::Alert),
    (131_000, Remedy::Retry),
    (131_005, Remedy::Alert),
    (131_008, Remedy::GiveUp),
    (131_009, Remedy::GiveUp),
    (131_016, Remedy::Retry),
    (131_021, Remedy::GiveUp),
    (131_026, Remedy::GiveUp),
    (131_030, Remedy::Alert),
    (131_031, Remedy::Alert),
    (131_037, Remedy::Alert),
    (131_042, Remedy::Alert),
    (131_044, Remedy::Alert),
    (131_045, Remedy::Alert),
    (131_047, Remedy::UseTemplate),
    (131_048, Remedy::GiveUp),
    (131_049, Remedy::GiveUp),
    (131_050, Remedy::GiveUp),
    (131_051, Remedy::GiveUp),
    (131_052, Remedy::GiveUp),
    (131_053, Remedy::Media),
    (131_055, Remedy::GiveUp),
    (131_056, Remedy::RetryPair),
    (131_057, Remedy::RetryAfter(60)),
    (131_060, Remedy::GiveUp),
    (131_062, Remedy::GiveUp),
    (131_064, Remedy::GiveUp),
    (132_000, Remedy::Alert),
    (132_001, Remedy::Alert),
    (132_005, Remedy::GiveUp),
    (132_007, Remedy::Alert),
    (132_008, Remedy::Alert),
    (132_012, Remedy::Alert),
    (132_015, Remedy::Alert),
    (132_016, Remedy::Alert),
    (132_018, Remedy::GiveUp),
    (132_068, Remedy::Alert),
    (132_069, Remedy::Alert),
    (133_000, Remedy::Alert),
    (133_004, Remedy::Retry),
    (133_005, Remedy::Alert),
    (133_006, Remedy::Alert),
    (133_008, Remedy::Alert),
    (133_009, Remedy::Alert),
    (133_010, Remedy::Alert),
    (133_015, Remedy::Alert),
    (133_016, Remedy::Alert),
    (134_011, Remedy::Alert),
    (134_100, Remedy::Alert),
    (134_101, Remedy::Retry),
    (134_102, Remedy::Alert),
    (135_000, Remedy::RetryOnce),
    (2_494_100, Remedy::RetryAfter(60)),
];

#[test]
fn the_code_alone_decides() {
    for (code, remedy) in CODES {
        for status in [400, 429, 500, 503] {
            let said = json!({"error": {"message": "x", "code": code}});
            let failure = answered(reply(status, &said)).unwrap_err();
            assert_eq!(
                (failure.remedy, failure.code),
                (*remedy, code.to_string()),
                "{status}"
            );
        }
        // The same code later, by webhook.
        let mut hook = fixture("meta/wh_status_failed_131047.json");
        let status = &mut hook["entry"][0]["changes"][0]["value"]["statuses"][0];
        status["biz_opaque_callback_data"] = json!("1:INV-1:paid:1");
        status["errors"][0]["code"] = json!(code);
        let [
            Signal::Message {
                report: Report::Failed(failure),
                ..
            },
        ] = &signals(&hook)[..]
        else {
            panic!("{code}")
        };
        assert_eq!(failure.remedy, *remedy, "{code}");
    }
}

#[test]
fn every_rule_has_a_test() {
    let source = include_str!("../../src/meta.rs");
    let (_, rules) = source.split_once("const RULES").unwrap();
    let (rules, _) = rules.split_once("];").unwrap();
    let single = rules.matches("rule(").count();
    // Three entries above stand for the one range.
    assert_eq!(CODES.len(), single + 3);
}

#[test]
fn the_provider_s_wish_is_heard() {
    let said = |code: i64| json!({"error": {"code": code}}).to_string();
    let remedy = |status, after, body: &str| answered(raw(status, after, body)).unwrap_err().remedy;
    for code in [4, 80_007, 130_429] {
        for status in [400, 429] {
            assert_eq!(
                remedy(status, Some(9), &said(code)),
                Remedy::Throttled(9),
                "{code}"
            );
        }
    }
    // The pair's limit is one customer's; the sender goes on with the others.
    assert_eq!(remedy(429, Some(9), &said(131_056)), Remedy::RetryPair);
    assert_eq!(remedy(500, Some(9), &said(131_057)), Remedy::RetryAfter(60));
    assert_eq!(
        remedy(500, Some(90), &said(131_057)),
        Remedy::RetryAfter(90)
    );
    assert_eq!(remedy(400, Some(9), &said(131_047)), Remedy::UseTemplate);
    assert_eq!(remedy(429, Some(9), "slow down"), Remedy::Throttled(9));
    assert_eq!(remedy(429, None, &said(987_654)), Remedy::Throttled(5));
}

#[test]
fn without_a_known_code_doubt_stays_doubt() {
    let remedy = |answer| answered(answer).unwrap_err().remedy;
    for answer in [
        Answer::Lost("timed out".into()),
        raw(500, None, "<html>"),
        raw(502, None, ""),
        raw(503, None, "{}"),
        raw(503, None, "{\"error\":{\"code\":987654}}"),
        raw(500, None, "{\"error\":{\"code\":\"x\"}}"),
        raw(408, None, ""),
        raw(200, None, "{\"messages\":"),
        raw(200, None, "{}"),
        raw(200, None, "{\"messages\":[{}]}"),
    ] {
        assert_eq!(remedy(answer.clone()), Remedy::Unknown, "{answer:?}");
    }
    assert_eq!(remedy(Answer::NotSent("no route".into())), Remedy::Retry);
    assert_eq!(remedy(raw(429, None, "")), Remedy::Throttled(5));
    assert_eq!(remedy(raw(401, None, "")), Remedy::Alert);
    assert_eq!(remedy(raw(302, None, "")), Remedy::Alert);
    assert_eq!(remedy(raw(404, None, "not here")), Remedy::Alert);
    assert_eq!(remedy(raw(413, None, "")), Remedy::GiveUp);
    assert_eq!(
        remedy(raw(400, None, "{\"error\":{\"code\":987654}}")),
        Remedy::GiveUp
    );
    assert_eq!(
        remedy(raw(
            400,
            None,
            "{\"error\":{\"code\":987654,\"is_transient\":true}}"
        )),
        Remedy::Retry
    );
}

#[test]
fn errors_are_quoted_without_personal_data() {
    let detail = |error: Value| {
        answered(reply(400, &json!({"error": error})))
            .unwrap_err()
            .detail
    };
    let plain = detail(
        json!({"code": 131_026, "message": "(#131026) Undeliverable", "error_data": "to +91 98765 43210"}),
    );
    assert_eq!(plain, "to +…");
    assert_eq!(
        detail(json!({"code": 1, "error_data": {"details": "919876543210"}})),
        "…"
    );
    assert_eq!(
        detail(json!({"code": 1, "title": "t", "message": "m"})),
        "m"
    );
    assert_eq!(detail(json!({"code": 1})), "");
    assert_eq!(
        detail(json!({"code": 1, "message": "x".repeat(900)})).len(),
        200
    );
}

#[test]
fn only_meta_s_signature_opens_a_webhook() {
    let c = channel();
    let genuine = signed(bytes("meta/wh_payment_captured.json"));
    assert!(c.verify(genuine.clone()).is_ok());
    let value = genuine.header("x-hub-signature-256").unwrap().to_owned();
    for changed in [
        value.replace("sha256=", ""),
        value.replace("sha256=", "sha1="),
        format!("{value} "),
        value.to_uppercase(),
        String::new(),
    ] {
        let raw = RawWebhook {
            headers: vec![("x-hub-signature-256".into(), changed.clone())],
            ..genuine.clone()
        };
        assert!(matches!(c.verify(raw), Err(Refused::Mismatch)), "{changed}");
    }
    for position in (0..genuine.body.len()).step_by(7) {
        let mut raw = genuine.clone();
        raw.body[position] ^= 1;
        assert!(c.verify(raw).is_err(), "byte {position}");
    }
    let none = RawWebhook {
        headers: vec![],
        ..genuine
    };
    assert!(matches!(c.verify(none), Err(Refused::Missing)));
}

#[test]
fn the_challenge_is_echoed_to_who_knows_the_token() {
    let c = channel();
    let ask = |mode: &str, token: &str, challenge: &str| {
        c.challenge(&RawWebhook {
            headers: vec![],
            query: [
                ("hub.mode", mode),
                ("hub.verify_token", token),
                ("hub.challenge", challenge),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            body: vec![],
        })
    };
    assert_eq!(
        ask("subscribe", "verify-me", "1158201444").as_deref(),
        Some("1158201444")
    );
    assert_eq!(ask("subscribe", "verify-you", "1158201444"), None);
    assert_eq!(ask("unsubscribe", "verify-me", "1158201444"), None);
    for bad in ["", "<script>", "a b", "é", &"1".repeat(129)] {
        assert_eq!(ask("subscribe", "verify-me", bad), None, "{bad}");
    }
    assert_eq!(c.challenge(&signed(vec![])), None);
}

fn signals(hook: &Value) -> Vec<Signal> {
    let c = channel();
    let verified = c.verify(signed(hook.to_string().into_bytes())).unwrap();
    c.read(&verified).unwrap()
}

#[test]
fn every_documented_webhook_is_read() {
    let mut seen = serde_json::Map::new();
    for name in [
        "wh_payment_captured",
        "wh_payment_bsp_old_shape",
        "wh_status_sent_old",
        "wh_status_failed_131047",
        "wh_payment_configuration_update",
        "wh_payment_refunded",
        "wh_inbound_text",
        "wh_inbound_button",
        "wh_inbound_interactive",
        "wh_inbound_without_number",
        "wh_user_preferences",
    ] {
        let read: Vec<String> = signals(&fixture(&format!("meta/{name}.json")))
            .iter()
            .map(|s| format!("{s:?}"))
            .collect();
        seen.insert(name.into(), json!(read));
    }
    insta::assert_json_snapshot!("webhooks", Value::Object(seen));
}

fn statuses(list: Value) -> Value {
    json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [
        {"field": "messages", "value": {"metadata": {"phone_number_id": NUMBER}, "statuses": list}}]}]})
}

#[test]
fn delivery_reports_find_their_order() {
    let tagged = |word: &str| json!({"id": "wamid.1", "status": word, "timestamp": "1", "biz_opaque_callback_data": "1:INV-1:invoice.2:3:acme"});
    let read = signals(&statuses(json!([
        tagged("sent"),
        tagged("delivered"),
        tagged("read"),
        tagged("warned")
    ])));
    for (signal, progress) in read
        .iter()
        .zip([Progress::Sent, Progress::Delivered, Progress::Read])
    {
        let Signal::Message { tag, report, .. } = signal else {
            panic!("{signal:?}")
        };
        assert_eq!(
            (tag.reference.as_str(), &tag.message, tag.attempt),
            ("INV-1", &MessageKey::Invoice(2), 3)
        );
        assert_eq!(*report, Report::Progress(progress));
    }
    assert!(
        matches!(&read[3], Signal::Noticed(Notice::DeliveryWord, text) if !text.contains("wamid")),
        "the customer's number is written into a message's id"
    );
}

#[test]
fn a_failure_reported_later_is_classified_too() {
    let mut hook = fixture("meta/wh_status_failed_131047.json");
    let status = &mut hook["entry"][0]["changes"][0]["value"]["statuses"][0];
    status["biz_opaque_callback_data"] = json!("1:INV-1:invoice.1:1");
    let [
        Signal::Message {
            report: Report::Failed(failure),
            ..
        },
    ] = &signals(&hook)[..]
    else {
        panic!()
    };
    assert_eq!(
        (failure.remedy, failure.code.as_str()),
        (Remedy::UseTemplate, "131047")
    );
    // Whatever the word, a known code is a failure; an unknown one with a word nobody knows is only counted.
    for (word, code, is_failure) in [
        ("undelivered", 131_026, true),
        ("sent", 131_047, true),
        ("paused", 132_015, true),
        ("paused", 999_999, false),
    ] {
        let status = json!([{"id": "w", "status": word, "biz_opaque_callback_data": "1:INV-1:paid:1:acme", "errors": [{"code": code}]}]);
        let signal = signals(&statuses(status)).pop().unwrap();
        match signal {
            Signal::Message {
                report: Report::Failed(f),
                ..
            } => {
                assert!(is_failure && f.code == code.to_string(), "{word} {code}");
            }
            Signal::Noticed(Notice::DeliveryWord, _) => assert!(!is_failure, "{word} {code}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        failure.detail,
        "More than 24 hours have passed since the recipient last replied"
    );
    let bare = json!([{"id": "w", "status": "failed", "biz_opaque_callback_data": "1:INV-1:paid:1:acme"},
                      {"id": "w", "status": "failed", "biz_opaque_callback_data": "1:INV-1:paid:1:acme", "errors": [{"code": 1_234_567}]}]);
    for signal in signals(&statuses(bare)) {
        assert!(matches!(
            signal,
            Signal::Message {
                report: Report::Failed(SendFailure {
                    remedy: Remedy::GiveUp,
                    ..
                }),
                ..
            }
        ));
    }
}

#[test]
fn one_bad_item_does_not_hide_its_neighbours() {
    let good =
        fixture("meta/wh_payment_captured.json")["entry"][0]["changes"][0]["value"]["statuses"][0]
            .clone();
    let mut offset = good.clone();
    offset["payment"]["amount"]["offset"] = json!(1000);
    let mut nameless = good.clone();
    nameless["payment"]["reference_id"] = json!("not a reference!");
    let mut list = vec![
        json!(null),
        json!(7),
        json!({}),
        json!({"type": "payment"}),
        offset,
        nameless,
    ];
    list.push(json!({"status": "sent", "biz_opaque_callback_data": "1:../:paid:1:acme"}));
    list.push(good);
    let mut hook = statuses(json!(list));
    let entries = hook["entry"].as_array_mut().unwrap();
    entries.insert(0, json!("nonsense"));
    entries.insert(0, json!({"changes": [null, {"field": 5}, {"field": "messages", "value": {
        "messages": [{"from": "919876543210", "text": {"body": "hello"}}], "errors": [{"code": 131_005, "title": "Access denied"}]}}]}));
    let read = signals(&hook);
    assert_eq!(read.len(), 4 + 8);
    assert!(matches!(read.last(), Some(Signal::Payment { .. })));
    assert!(read.iter().rev().skip(1).all(|s| matches!(
        s,
        Signal::Ignored(_) | Signal::Noticed(Notice::Unreadable, _)
    )));
    assert!(!format!("{read:?}").contains("9876543210") && !format!("{read:?}").contains("hello"));
}

#[test]
fn another_number_s_reports_are_not_ours() {
    let mut hook = fixture("meta/wh_payment_captured.json");
    hook["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = json!("1");
    assert!(matches!(
        &signals(&hook)[..],
        [Signal::Elsewhere { tenant: None, .. }]
    ));
    // The tag names the tenant; without one nobody knows whose it is.
    let status =
        |tag: &str| json!({"id": "w", "status": "delivered", "biz_opaque_callback_data": tag});
    let mut hook = statuses(json!([
        status("1:INV-1:paid:1:bina"),
        status("1:INV-1:paid:1"),
        status("x")
    ]));
    let value = &mut hook["entry"][0]["changes"][0]["value"];
    value["metadata"]["phone_number_id"] = json!("1");
    value["messages"] = json!([{"from": "919876543210", "type": "text", "text": {"body": "STOP"}}]);
    let named = |signal: &Signal| match signal {
        Signal::Elsewhere { tenant, .. } => {
            tenant.as_ref().map(|tenant| tenant.as_str().to_owned())
        }
        other => panic!("{other:?}"),
    };
    let heard: Vec<_> = signals(&hook).iter().map(named).collect();
    assert_eq!(heard, [Some("bina".to_owned()), None, None, None]);
}

#[test]
fn a_tag_of_ours_may_name_us_or_nobody() {
    let status =
        |tag: &str| json!({"id": "w", "status": "delivered", "biz_opaque_callback_data": tag});
    let heard = signals(&statuses(json!([
        status("1:INV-1:paid:1"),
        status("1:INV-1:paid:1:acme"),
        status("1:INV-1:paid:1:bina"),
    ])));
    assert!(
        matches!(&heard[..], [
            Signal::Message { .. },
            Signal::Message { .. },
            Signal::Elsewhere { tenant: Some(bina), .. }
        ] if bina.as_str() == "bina"),
        "{heard:?}"
    );
    let letter = Letter::new(bill(&small_bill()));
    let sent = body(&letter.outgoing(invoice(LINK), None));
    assert_eq!(
        sent["biz_opaque_callback_data"],
        "1:BM345A-12:invoice.1:1:acme"
    );
}

/// Field report B17: a customer who shows a name instead of a number.
#[test]
fn a_hidden_customer_is_known_by_their_id() {
    let hidden = json!({"from_user_id": "IN.1A2B3C", "id": "wamid.Y", "timestamp": "1780000000", "type": "text",
        "text": {"body": "STOP"}, "context": {"id": "wamid.OURS"}});
    let in_from = json!({"from": "IN.1A2B3C", "timestamp": "1780000000", "type": "text", "text": {"body": "STOP"}});
    for message in [hidden, in_from] {
        let Signal::InboundHidden { user, at, wish } = wrote(message.clone()) else {
            panic!("{message}")
        };
        assert_eq!(
            (user.as_str(), at, wish),
            (
                "IN.1A2B3C",
                Some(Millis::from_seconds(1_780_000_000)),
                Some(Wish::OptOut)
            )
        );
    }
    // Beside the message, where it names one customer only.
    let mut hook = fixture("meta/wh_inbound_text.json");
    let value = &mut hook["entry"][0]["changes"][0]["value"];
    value["messages"] = json!([{"timestamp": "1", "type": "text", "text": {"body": "hi"}}]);
    value["contacts"] = json!([{"user_id": "IN.1A2B3C"}]);
    assert!(matches!(
        &signals(&hook)[..],
        [Signal::InboundHidden { wish: None, .. }]
    ));
    hook["entry"][0]["changes"][0]["value"]["contacts"] =
        json!([{"user_id": "IN.1"}, {"user_id": "IN.2"}]);
    assert!(matches!(&signals(&hook)[..], [Signal::Ignored(_)]));
    // Reports of our own messages say whose id it is, and a field of its own when it changes.
    let report = json!({"id": "w", "status": "delivered", "recipient_id": "919876543210", "recipient_user_id": "IN.1A2B3C",
        "biz_opaque_callback_data": "1:INV-1:invoice.1:1:acme"});
    assert!(matches!(
        &signals(&statuses(json!([report])))[..],
        [Signal::Message { user: Some(user), .. }] if user.as_str() == "IN.1A2B3C"
    ));
    let update = json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "user_id_update", "value": {
        "user_id_update": [{"wa_id": "919876543210", "user_id": {"previous": "IN.1A2B3C", "current": "IN.4D5E6F"}}, {"user_id": 7}]}}]}]});
    assert!(matches!(
        &signals(&update)[..],
        [Signal::Renamed { before, now }, Signal::Noticed(Notice::Unreadable, _)]
            if before.as_str() == "IN.1A2B3C" && now.as_str() == "IN.4D5E6F"
    ));
}

#[test]
fn a_payment_is_a_hint_with_its_attempt() {
    let mut hook = fixture("meta/wh_payment_captured.json");
    let pointer = "/entry/0/changes/0/value/statuses/0";
    let mut read = |change: &dyn Fn(&mut Value)| {
        change(hook.pointer_mut(pointer).unwrap());
        match signals(&hook).pop() {
            Some(Signal::Payment {
                reference,
                report,
                trust: Trust::Hint,
            }) => {
                assert_eq!(reference.as_str(), "INV-1");
                report
            }
            other => panic!("{other:?}"),
        }
    };
    let captured = read(&|_| {});
    assert_eq!(
        (
            captured.status,
            captured.payment_id.as_str(),
            captured.amount.get(),
            captured.method.as_deref()
        ),
        (AttemptStatus::Captured, "pay_N1", 21_000, Some("upi"))
    );
    assert_eq!(captured.at, Some(Millis::from_seconds(1_772_129_215)));
    let texts = read(&|s| s["payment"]["transaction"]["created_timestamp"] = json!("1772129215"));
    assert_eq!(texts, captured);
    let unsure = read(&|s| s["status"] = json!("pending"));
    assert_eq!(unsure.status, AttemptStatus::Pending);
    let failed = read(&|s| {
        s["payment"]["transaction"]["status"] = json!("failed");
        s["payment"]["transaction"]["error"] =
            json!({"code": "bank_declined", "reason": "declined for payer@upi"});
    });
    assert_eq!(
        (failed.status, failed.error.as_deref()),
        (AttemptStatus::Failed, Some("declined for …@upi"))
    );
    let pending = read(&|s| {
        s["payment"]["transaction"]["status"] = json!("pending");
        s["payment"]["transaction"]
            .as_object_mut()
            .unwrap()
            .remove("pg_transaction_id");
    });
    assert_eq!(
        (pending.status, pending.payment_id.as_str(), pending.error),
        (AttemptStatus::Pending, "order_N1", None)
    );
}

#[test]
fn a_webhook_that_is_no_json_is_unreadable() {
    let c = channel();
    let verified = c.verify(signed(b"<xml/>".to_vec())).unwrap();
    assert!(c.read(&verified).is_err());
    assert!(matches!(
        &signals(&json!({"entry": []}))[..],
        [Signal::Ignored(_)]
    ));
    assert_eq!(c.acknowledgement(), "ok");
}

fn look(answer: Answer) -> Result<Found, CallError> {
    match channel().lookup_payment(&ReferenceId::parse("INV-1").unwrap(), &[answer]) {
        Step::Done(result) => result,
        Step::Call(call) => panic!("{call:?}"),
    }
}

#[test]
fn a_lookup_tells_every_attempt() {
    let mut document = fixture("meta/resp_lookup_captured.json");
    let found = look(reply(200, &document)).unwrap();
    let [report] = &found.reports[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (
            report.status,
            report.payment_id.as_str(),
            report.amount.get(),
            report.currency.as_str()
        ),
        (AttemptStatus::Captured, "pay_N1", 1000, "INR")
    );
    let mut failed = document["payments"][0]["transactions"][0].clone();
    failed["status"] = json!("FAILED");
    failed["pg_transaction_id"] = json!("pay_N0");
    document["payments"][0]["transactions"]
        .as_array_mut()
        .unwrap()
        .insert(0, failed);
    let statuses: Vec<_> = look(reply(200, &document))
        .unwrap()
        .reports
        .iter()
        .map(|r| r.status)
        .collect();
    assert_eq!(statuses, [AttemptStatus::Failed, AttemptStatus::Captured]);
    // Until a success has the gateway's id it is no money: under another id it would come in a second time.
    let mut nameless = document.clone();
    nameless["payments"][0]["transactions"][1]
        .as_object_mut()
        .unwrap()
        .remove("pg_transaction_id");
    assert!(matches!(
        look(reply(200, &nameless)),
        Err(CallError::Unavailable { .. })
    ));
    document["payments"][0]["reference_id"] = json!("INV-2");
    assert_eq!(look(reply(200, &document)), Ok(Found::default()));
    // Before the first attempt there are no transactions.
    let none = json!({"payments": [{"reference_id": "INV-1", "status": "pending", "currency": "INR", "amount": {"value": 1, "offset": 100}}]});
    assert_eq!(look(reply(200, &none)), Ok(Found::default()));
}

#[test]
fn a_lookup_that_fails_says_how() {
    let unsure = json!({"payments": [{"reference_id": "INV-1", "status": "captured"}]});
    let mut broken = fixture("meta/resp_lookup_captured.json");
    broken["payments"][0]["transactions"][0]["amount"]["offset"] = json!(1);
    for answer in [
        Answer::Lost("x".into()),
        Answer::NotSent("x".into()),
        raw(502, None, "<html>"),
        raw(200, None, "{}"),
        reply(200, &unsure),
        reply(200, &broken),
        reply(500, &fixture("meta/resp_lookup_error.json")),
        reply(200, &fixture("meta/resp_lookup_error.json")),
        reply(429, &fixture("meta/err_130429.json")),
    ] {
        let result = look(answer.clone());
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{answer:?}: {result:?}"
        );
    }
    for (answer, code) in [
        (
            reply(401, &json!({"error": {"code": 190, "message": "expired"}})),
            "190",
        ),
        (reply(400, &json!({"error": {"code": 100}})), "100"),
        (
            reply(404, &json!({"errors": [{"title": "not found"}]})),
            "http_404",
        ),
    ] {
        let result = look(answer);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{result:?}"
        );
    }
    let linked = json!({"mode": "payment_link", "gateway": "razorpay", "credentials": {}});
    let c = chatbill_channels::open(&tenant(&settings(), &linked)).unwrap();
    let step = c.lookup_payment(&ReferenceId::parse("INV-1").unwrap(), &[]);
    assert!(
        matches!(step, Step::Done(Err(CallError::Unsupported(_)))),
        "{step:?}"
    );
}

#[test]
fn faults_of_the_settings_point_into_the_document() {
    let mut bad = settings();
    bad["kind"] = json!("sms");
    bad["credentials"] =
        json!({"phone_number_id": "1/2", "access_token": "", "app_secrets": [], "extra": 1});
    let mut odd = settings();
    odd["credentials"]["waba_id"] = json!("1/../2");
    assert_eq!(
        faults_of(&odd, &payment()),
        [("/channel/credentials/waba_id".to_owned(), "invalid")]
    );
    let linked = json!({"mode": "payment_link", "gateway": "razorpay", "credentials": {}});
    let faults = chatbill_channels::open(&tenant(&bad, &linked))
        .err()
        .unwrap();
    let seen: Vec<_> = faults
        .iter()
        .map(|f| (f.pointer.as_str(), f.code))
        .collect();
    for expected in [
        ("/channel/kind", "impossible"),
        ("/channel/credentials/phone_number_id", "invalid"),
        ("/channel/credentials/waba_id", "missing"),
        ("/channel/credentials/access_token", "empty"),
        ("/channel/credentials/app_secrets", "invalid"),
        ("/channel/credentials/verify_token", "missing"),
        ("/channel/credentials/extra", "unknown_field"),
    ] {
        assert!(seen.contains(&expected), "{expected:?} in {seen:?}");
    }
}

#[test]
fn a_base_url_replaces_host_and_version() {
    let mut other = settings();
    other["base_url"] = json!("https://graph.example/v25.0");
    let c = chatbill_channels::open(&tenant(&other, &payment())).unwrap();
    let letter = Letter::new(bill(&small_bill()));
    let SendStep::Call(call) = c.send(&letter.outgoing(invoice(LINK), None), &[]) else {
        panic!()
    };
    assert_eq!(
        call.url,
        format!("https://graph.example/v25.0/{NUMBER}/messages")
    );
}

fn faults_of(channel: &Value, payment: &Value) -> Vec<(String, &'static str)> {
    chatbill_channels::open(&tenant(channel, payment))
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|fault| (fault.pointer, fault.code))
        .collect()
}

#[test]
fn settings_without_effect_are_refused() {
    let linked = json!({"mode": "payment_link", "gateway": "razorpay", "credentials": {}});
    let with = |changes: Value| {
        let mut settings = settings();
        settings
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        settings
    };
    let sms = with(json!({"fallback_to_sms": true}));
    let seen = faults_of(&sms, &linked);
    assert_eq!(
        seen,
        [("/channel/fallback_to_sms".to_owned(), "impossible")]
    );
    let plain = json!({"invoice": {"name": "bill", "language": "en"}});
    let pictured = json!({"invoice": {"name": "bill", "language": "en", "media_header": true}});
    let qr = [("/channel/qr_header".to_owned(), "impossible")];
    for (changes, payment, refused) in [
        (json!({"qr_header": "upload"}), &linked, false),
        (json!({"qr_header": "link"}), &linked, false),
        (json!({"qr_header": "link"}), &payment(), true),
        (
            json!({"qr_header": "link", "templates": plain}),
            &linked,
            true,
        ),
        (
            json!({"qr_header": "link", "templates": pictured}),
            &linked,
            false,
        ),
        // In free form the code goes out; the template, should it be needed, does without.
        (
            json!({"qr_header": "link", "templates": plain, "form": "auto"}),
            &linked,
            false,
        ),
        (
            json!({"qr_header": "link", "templates": plain, "form": "interactive"}),
            &linked,
            false,
        ),
    ] {
        let seen = faults_of(&with(changes.clone()), payment);
        assert_eq!(seen, if refused { &qr[..] } else { &[] }, "{changes}");
    }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\npicture";

fn pictured_template() -> Template {
    Template {
        media_header: true,
        standard_picture: None,
        ..template(&[])
    }
}

/// What a bill with this code above it begins with, given the answers so far.
fn with_code(
    document: &Value,
    qr: QrCode<'_>,
    template: Option<&Template>,
    answers: &[Answer],
) -> SendStep {
    let letter = Letter::new(bill(document));
    let out = Outgoing {
        qr: Some(qr),
        ..letter.outgoing(invoice(LINK), template)
    };
    channel().send(&out, answers)
}

fn called(step: SendStep) -> HttpCall {
    match step {
        SendStep::Call(call) => *call,
        other => panic!("{other:?}"),
    }
}

fn said(call: &HttpCall) -> Value {
    serde_json::from_slice(&call.body.as_ref().unwrap().1).unwrap()
}

#[test]
fn the_code_to_pay_heads_bills_that_have_no_header() {
    let link = || QrCode::Link("https://shop.example/r/token/qr.png".into());
    let (small, full) = (small_bill(), full_bill());
    let form = pictured_template();
    let uploaded = [reply(200, &fixture("meta/resp_media_uploaded.json"))];
    let show = |step| printed(&called(step));
    insta::assert_json_snapshot!(
        "invoice_qr_link",
        show(with_code(&small, link(), None, &[]))
    );
    insta::assert_json_snapshot!(
        "invoice_template_qr_link",
        show(with_code(&small, link(), Some(&form), &[]))
    );
    insta::assert_json_snapshot!(
        "upload_media",
        show(with_code(&small, QrCode::Png(PNG), None, &[]))
    );
    insta::assert_json_snapshot!(
        "invoice_qr_uploaded",
        show(with_code(&small, QrCode::Png(PNG), None, &uploaded))
    );
    insta::assert_json_snapshot!(
        "invoice_template_qr_uploaded",
        show(with_code(&small, QrCode::Png(PNG), Some(&form), &uploaded))
    );
    // The bill's own header stays, and nothing is uploaded in vain: not for it, not for a template without a place.
    let plain = template(&[]);
    for (document, template) in [(&full, None), (&full, Some(&form)), (&small, Some(&plain))] {
        for qr in [link(), QrCode::Png(PNG)] {
            let call = called(with_code(document, qr, template, &[]));
            assert_eq!(call.label, "meta.send_message");
            assert!(!said(&call).to_string().contains("qr.png"));
        }
    }
    // News of the order has no header.
    let letter = Letter::new(bill(&small));
    let text = "Thank you!".to_owned();
    let out = Outgoing {
        qr: Some(QrCode::Png(PNG)),
        ..letter.outgoing(Content::Receipt { text }, None)
    };
    assert_eq!(called(channel().send(&out, &[])).label, "meta.send_message");
}

#[test]
fn a_document_above_a_bill_has_a_name() {
    let form = pictured_template();
    let shown = |document: Value| {
        let mut posted = small_bill();
        posted["header"] = json!({"type": "document", "document": document});
        let letter = Letter::new(bill(&posted));
        let header = |template| {
            let out = letter.outgoing(invoice(LINK), template);
            let body = said(&called(channel().send(&out, &[])));
            let places = [
                "/interactive/header/document",
                "/template/components/0/parameters/0/document",
            ];
            places
                .iter()
                .find_map(|place| body.pointer(place))
                .unwrap()
                .clone()
        };
        let (free, template) = (header(None), header(Some(&form)));
        assert_eq!(free, template);
        free
    };
    // Field report B13.
    let link = "https://shop.example/inv/BM345A-12.pdf";
    assert_eq!(
        shown(json!({"link": link, "filename": "Invoice BM345A-12.pdf"})),
        json!({"link": link, "filename": "Invoice BM345A-12.pdf"})
    );
    assert_eq!(
        shown(json!({"link": link})),
        json!({"link": link, "filename": "BM345A-12.pdf"})
    );
}

#[test]
fn a_picture_goes_out_as_it_is() {
    let call = called(with_code(&small_bill(), QrCode::Png(PNG), None, &[]));
    let (kind, body) = call.body.unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    assert!(boundary.len() <= 70, "RFC 2046, 5.1.1");
    let at = body.windows(PNG.len()).position(|w| w == PNG).unwrap();
    assert!(body[..at].ends_with(b"Content-Type: image/png\r\n\r\n"));
    assert_eq!(
        body[at + PNG.len()..],
        *format!("\r\n--{boundary}--\r\n").as_bytes()
    );
}

#[test]
fn a_failed_upload_leaves_nothing_in_doubt() {
    let form = pictured_template();
    let outcome = |answer: &Answer, template| {
        with_code(
            &small_bill(),
            QrCode::Png(PNG),
            template,
            std::slice::from_ref(answer),
        )
    };
    let error = |code: i64| json!({"error": {"code": code, "message": "x"}}).to_string();
    for (answer, remedy, code) in [
        (Answer::Lost("x".into()), Remedy::Retry, "upload_lost"),
        (Answer::NotSent("x".into()), Remedy::Retry, "not_sent"),
        (raw(200, None, "{}"), Remedy::Retry, "upload_lost"),
        (raw(200, None, "<html>"), Remedy::Retry, "upload_lost"),
        (raw(500, None, ""), Remedy::Retry, "http_500"),
        (raw(500, None, &error(987_654)), Remedy::Retry, "987654"),
        (raw(408, None, ""), Remedy::Retry, "http_408"),
        (raw(500, None, &error(131_000)), Remedy::Retry, "131000"),
        (
            raw(429, Some(7), &error(130_429)),
            Remedy::Throttled(7),
            "130429",
        ),
        (raw(401, None, &error(190)), Remedy::Alert, "190"),
    ] {
        for template in [None, Some(&form)] {
            let SendStep::Failed(failure) = outcome(&answer, template) else {
                panic!("{answer:?}")
            };
            assert_eq!((failure.remedy, failure.code.as_str()), (remedy, code));
        }
    }
    // A file Meta does not want: the bill goes out without it, unless a template insists.
    for answer in [
        reply(400, &fixture("meta/err_100_media_type.json")),
        raw(400, None, &error(131_053)),
        raw(413, None, ""),
    ] {
        let call = called(outcome(&answer, None));
        assert_eq!(call.label, "meta.send_message");
        assert_eq!(said(&call)["interactive"].get("header"), None);
        assert!(matches!(outcome(&answer, Some(&form)), SendStep::Failed(_)));
    }
}

#[test]
fn the_message_after_an_upload_is_judged_like_any_other() {
    let answers = |last: Answer| [reply(200, &fixture("meta/resp_media_uploaded.json")), last];
    let outcome = |answers: &[Answer]| with_code(&small_bill(), QrCode::Png(PNG), None, answers);
    let sent = answers(reply(200, &fixture("meta/resp_message_sent.json")));
    assert!(matches!(outcome(&sent), SendStep::Sent { .. }));
    let lost = answers(Answer::Lost("x".into()));
    let SendStep::Failed(failure) = outcome(&lost) else {
        panic!()
    };
    assert_eq!(failure.remedy, Remedy::Unknown);
}

#[test]
fn an_intent_that_cannot_collect_the_bill_is_given_up() {
    let letter = Letter::new(bill(&small_bill()));
    for (uri, reason) in [
        ("upi://pay?pn=Acme", "payee"),
        ("upi://pay?pa=shop@bank&am=999.00", "amount"),
        ("https://pay.example", "upi://pay"),
    ] {
        for qr in [None, Some(QrCode::Png(PNG))] {
            let out = Outgoing {
                qr,
                ..letter.outgoing(invoice(Checkout::Intent { uri }), None)
            };
            let SendStep::Failed(failure) = channel().send(&out, &[]) else {
                panic!("{uri}")
            };
            assert_eq!(
                (failure.remedy, failure.code.as_str()),
                (Remedy::GiveUp, "intent_unusable")
            );
            assert!(failure.detail.contains(reason), "{}", failure.detail);
        }
    }
}

/// Field report B23: what stands above a bill could not be fetched, twice.
#[test]
fn a_bill_whose_pictures_failed_goes_without_them() {
    let letter = Letter::new(bill(&full_bill()));
    let bare = |template: Option<&Template>| {
        let out = Outgoing {
            bare: true,
            ..letter.outgoing(invoice(LINK), template)
        };
        channel().send(&out, &[])
    };
    let free = said(&called(bare(None)));
    assert!(free["interactive"].get("header").is_none(), "{free}");
    assert!(!free.to_string().contains("rice.png"), "{free}");
    let plain = pictured_template();
    let step = bare(Some(&plain));
    assert!(
        matches!(&step, SendStep::Failed(f) if f.code == "no_header" && f.remedy == Remedy::GiveUp),
        "{step:?}"
    );
    let standard = Template {
        standard_picture: Some("https://shop.example/standard.png".into()),
        ..pictured_template()
    };
    let sent = said(&called(bare(Some(&standard))));
    assert_eq!(
        sent.pointer("/template/components/0/parameters/0/image/link"),
        Some(&json!("https://shop.example/standard.png"))
    );
}

#[test]
fn a_header_of_the_wrong_kind_is_the_header_s_fault() {
    let details = |text: &str| {
        json!({"error": {"code": 132_012, "message": "(#132012) Parameter format does not match",
        "error_data": {"details": text}}})
    };
    for (text, remedy) in [
        (
            "header: Format mismatch, expected IMAGE, received DOCUMENT",
            Remedy::Media,
        ),
        (
            "body: number of localizable_params does not match",
            Remedy::Alert,
        ),
    ] {
        let failure = answered(reply(400, &details(text))).unwrap_err();
        assert_eq!(failure.remedy, remedy, "{text}");
        let report = json!([{"id": "w", "status": "failed", "biz_opaque_callback_data": "1:INV-1:paid:1:acme",
            "errors": [{"code": 132_012, "error_data": {"details": text}}]}]);
        let heard = signals(&statuses(report));
        assert!(
            matches!(&heard[..], [Signal::Message { report: Report::Failed(f), .. }] if f.remedy == remedy),
            "{text}: {heard:?}"
        );
    }
}

/// One inbound message to our number.
#[test]
fn a_number_is_the_one_the_bill_was_sent_to() {
    let mut hook = fixture("meta/wh_inbound_text.json");
    hook["entry"][0]["changes"][0]["value"]["messages"] = json!([
        {"from": "9607712345", "id": "wamid.1", "timestamp": "1749416383", "type": "text", "text": {"body": "STOP"}}
    ]);
    for (country, number) in [("MV", "+9607712345"), ("IN", "+919607712345")] {
        let country = Country::parse(country).unwrap();
        let mut shop = tenant(&settings(), &payment());
        shop.country = country;
        let c = chatbill_channels::open(&shop).unwrap();
        let verified = c.verify(signed(hook.to_string().into_bytes())).unwrap();
        let heard = c.read(&verified).unwrap();
        let Some(Signal::Inbound { phone, .. }) = heard.first() else {
            panic!("{heard:?}")
        };
        assert_eq!(phone.e164(), number);
        // A till in that country writes it like this.
        let posted = Msisdn::from_people("+960 771-2345", country);
        assert_eq!(posted.as_ref(), Ok(phone));
    }
}

fn wrote(message: Value) -> Signal {
    let mut hook = fixture("meta/wh_inbound_text.json");
    hook["entry"][0]["changes"][0]["value"]["messages"] = json!([message]);
    signals(&hook).pop().unwrap()
}

#[test]
fn a_customer_s_message_opens_the_window_and_may_be_a_wish() {
    let from = json!({"from": "919876543210", "id": "wamid.1", "timestamp": "1749416383"});
    let with = |more: Value| {
        let mut message = from.clone();
        message
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        message
    };
    for (message, expected) in [
        (json!({"type": "text", "text": {"body": "Hi"}}), None),
        (
            json!({"type": "text", "text": {"body": " STOP. "}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "text", "text": {"body": "please stop 🙏"}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "text", "text": {"body": "please stop by my shop"}}),
            None,
        ),
        (
            json!({"type": "text", "text": {"body": "No bills 🙏"}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "button", "button": {"text": "Unsubscribe", "payload": "u"}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "1", "title": "Start"}}}),
            Some(Wish::OptIn),
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Opt out"}}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "button", "button": {"text": "No more bills", "payload": "STOP"}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "stop", "title": "Leave me alone"}}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent",
                "response_json": "{\"flow_token\":\"start\",\"bills\":\"Stop\",\"why\":\"too many \\ud83c\"}"}}}),
            Some(Wish::OptOut),
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"response_json": "{\"a\":\"stop\",\"b\":\"start\"}"}}}),
            None,
        ),
        (json!({"type": "image", "image": {"id": "1"}}), None),
        (json!({"type": "unsupported"}), None),
        (json!({}), None),
        (json!({"timestamp": 1_749_416_383}), None),
    ] {
        let Signal::Inbound { phone, at, wish } = wrote(with(message.clone())) else {
            panic!("{message}")
        };
        assert_eq!(
            (phone.e164(), at, wish),
            (
                "+919876543210",
                Some(Millis::from_seconds(1_749_416_383)),
                expected
            ),
            "{message}"
        );
    }
}

/// Field report B09: a number without its country's code is an Indian one.
#[test]
fn a_number_without_its_country_is_indian() {
    for from in ["09876543210", "9876543210", "+919876543210", "919876543210"] {
        let message = json!({"from": from, "timestamp": "1749416383", "type": "text", "text": {"body": "stop"}});
        assert!(
            matches!(wrote(message), Signal::Inbound { phone, .. } if phone.e164() == "+919876543210"),
            "{from}"
        );
    }
}

#[test]
fn a_message_without_a_time_is_still_a_message() {
    for message in [
        json!({"from": "919876543210", "type": "text", "text": {"body": "stop"}}),
        json!({"from": "919876543210", "timestamp": "0", "text": {"body": "stop"}}),
        json!({"from": "919876543210", "timestamp": "today", "text": {"body": "stop"}}),
    ] {
        assert!(
            matches!(
                wrote(message.clone()),
                Signal::Inbound {
                    at: None,
                    wish: Some(Wish::OptOut),
                    ..
                }
            ),
            "{message}"
        );
    }
}

#[test]
fn messages_of_nobody_we_can_name_are_left_alone() {
    let text = json!({"body": "stop"});
    for message in [
        json!({"from": "919876543210", "timestamp": "1749416383", "group_id": "g", "type": "text", "text": text}),
        json!({"from": "919876543210", "timestamp": "1749416383", "type": "system", "system": {"type": "user_changed_number", "body": "stop"}}),
        json!({"from": "919876543210", "timestamp": "1749416383", "type": "request_welcome"}),
        json!("stop"),
        json!(null),
    ] {
        let Signal::Ignored(note) = wrote(message.clone()) else {
            panic!("{message}")
        };
        assert!(
            !note.contains("IN.") && !note.contains("9876543210") && !note.contains("stop"),
            "{note}"
        );
    }
    // A wish that nobody can place is counted.
    for message in [
        json!({"timestamp": "1749416383", "type": "text", "text": text}),
        json!({"from": "", "user_id": "IN.13491208655302741918", "timestamp": "1749416383", "text": text}),
        json!({"from": 919_876_543_210_i64, "timestamp": "1749416383", "text": text}),
        json!({"from_user_id": "13491208655302741918", "timestamp": "1749416383", "text": text}),
    ] {
        let Signal::Noticed(Notice::WishUnplaced, note) = wrote(message.clone()) else {
            panic!("{message}")
        };
        assert!(
            !note.contains("1349") && !note.contains("9876543210"),
            "{note}"
        );
    }
    let mut hook = fixture("meta/wh_inbound_text.json");
    let metadata = &mut hook["entry"][0]["changes"][0]["value"]["metadata"];
    metadata["phone_number_id"] = json!(null);
    assert!(matches!(&signals(&hook)[..], [Signal::Ignored(_)]));
}

#[test]
fn a_report_needs_no_recipient() {
    let report = json!({"id": "wamid.1", "status": "delivered", "timestamp": "1", "recipient_user_id": "IN.1349",
                        "biz_opaque_callback_data": "1:INV-1:invoice.2:3:acme"});
    assert!(matches!(
        &signals(&statuses(json!([report])))[..],
        [Signal::Message {
            report: Report::Progress(Progress::Delivered),
            ..
        }]
    ));
    let mut paid = fixture("meta/wh_payment_captured.json");
    paid.pointer_mut("/entry/0/changes/0/value/statuses/0")
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove("recipient_id");
    assert!(matches!(&signals(&paid)[..], [Signal::Payment { .. }]));
}

#[test]
fn refunds_of_a_reported_payment_are_hints() {
    let mut hook = fixture("meta/wh_payment_refunded.json");
    let pointer = "/entry/0/changes/0/value/statuses/0/payment/refunds";
    let first = hook.pointer(pointer).unwrap()[0].clone();
    let change = |field: &str, value: Value| {
        let mut refund = first.clone();
        refund[field] = value;
        refund
    };
    *hook.pointer_mut(pointer).unwrap() = json!([
        first,
        change("status", json!("pending")),
        change("status", json!("FAILED")),
        change("status", json!("queued")),
        change("amount", json!({"value": 1, "offset": 1})),
        change("id", json!(null)),
    ]);
    let read = signals(&hook);
    assert!(matches!(read[0], Signal::Payment { .. }));
    let reports: Vec<_> = read[1..]
        .iter()
        .filter_map(|signal| match signal {
            Signal::Refund {
                reference,
                report,
                trust: Trust::Hint,
            } => {
                assert_eq!(reference.as_str(), "INV-1");
                Some(report)
            }
            Signal::Noticed(Notice::Unreadable, _) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        *reports[0],
        RefundReport {
            status: RefundStatus::Processed,
            id: Some("rfnd_N1".into()),
            name: None,
            payment_id: "pay_N1".into(),
            amount: Paise::new(100).unwrap(),
            speed: Some(Speed::Instant),
            bank_reference: None,
            error: None,
            at: Some(Millis::from_seconds(1_772_129_300)),
        }
    );
    let words: Vec<_> = reports.iter().map(|r| r.status).collect();
    use RefundStatus::{Failed, Pending, Processed};
    assert_eq!(words, [Processed, Pending, Failed, Pending]);
}

#[test]
fn a_configuration_that_stops_working_is_loud() {
    let news = |name: &str, status: &str| {
        let mut hook = fixture("meta/wh_payment_configuration_update.json");
        let value = &mut hook["entry"][0]["changes"][0]["value"];
        value["configuration_name"] = json!(name);
        value["status"] = json!(status);
        match signals(&hook).pop() {
            Some(Signal::Ignored(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        news("shop / test", "Active"),
        "payment configuration shop / test is now Active"
    );
    for status in ["Needs Testing", "Needs_Connecting", ""] {
        let text = news("shop / test", status);
        assert!(
            text.starts_with("ATTENTION") && text.contains("CANNOT BE PAID"),
            "{text}"
        );
        let other = news("another", status);
        assert!(
            other.starts_with("ATTENTION") && !other.contains("CANNOT BE PAID"),
            "{other}"
        );
    }
}

fn refund_request() -> RefundRequest {
    RefundRequest {
        reference: ReferenceId::parse("INV-1").unwrap(),
        order_id: "INV-1".into(),
        gateway_id: None,
        mode: PaymentMode::PaymentGateway,
        payment_id: "pay_N1".into(),
        captured: Paise::new(1000).unwrap(),
        captured_at: Millis::from_seconds(1_772_129_215),
        refund_id: "RF-1".into(),
        token: "abcdefghij0123456789".into(),
        amount: Paise::new(100).unwrap(),
        before: Paise::ZERO,
        others: Vec::new(),
        unnamed: Vec::new(),
        ahead: 0,
        first: false,
        same_amount_at: None,
        speed: Speed::Normal,
        reason: Some("damaged".into()),
        now: Millis::from_seconds(1_772_130_000),
        gateway_refund_id: None,
        not_now: None,
    }
}

/// A lookup's answer with these refunds: id, paise, status, time.
fn refunds(list: &[(&str, i64, &str, i64)]) -> Answer {
    let mut document = fixture("meta/resp_lookup_captured.json");
    document["payments"][0]["transactions"][0]["refunds"] = list
        .iter()
        .map(|(id, paise, status, at)| {
            json!({"id": id, "amount": {"value": paise, "offset": 100}, "speed_processed": "normal",
                   "status": status, "created_timestamp": at})
        })
        .collect();
    reply(200, &document)
}

fn refund(request: &RefundRequest, answers: &[Answer]) -> Result<RefundReport, CallError> {
    match channel().refund(request, answers) {
        Step::Done(result) => result,
        Step::Call(call) => panic!("{call:?}"),
    }
}

fn asked_for(request: &RefundRequest, answers: &[Answer]) -> HttpCall {
    match channel().refund(request, answers) {
        Step::Call(call) => *call,
        Step::Done(result) => panic!("{result:?}"),
    }
}

#[test]
fn a_refund_is_looked_for_and_then_asked_for() {
    let request = refund_request();
    insta::assert_json_snapshot!("lookup_refund", printed(&asked_for(&request, &[])));
    insta::assert_json_snapshot!("refund", printed(&asked_for(&request, &[refunds(&[])])));
    let instant = RefundRequest {
        speed: Speed::Instant,
        ..request.clone()
    };
    assert_eq!(
        said(&asked_for(&instant, &[refunds(&[])]))["speed"],
        "instant"
    );
    let report = refund(
        &request,
        &[refunds(&[]), reply(200, &fixture("meta/resp_refund.json"))],
    )
    .unwrap();
    assert_eq!(
        report,
        RefundReport {
            status: RefundStatus::Pending,
            id: Some("refund-id".into()),
            name: None,
            payment_id: "pay_N1".into(),
            amount: request.amount,
            speed: Some(Speed::Normal),
            bank_reference: None,
            error: None,
            at: None,
        }
    );
    for (word, status) in [
        ("completed", RefundStatus::Processed),
        ("failed", RefundStatus::Failed),
        ("PENDING", RefundStatus::Pending),
        ("new word", RefundStatus::Pending),
    ] {
        let said = json!({"id": "r", "status": word});
        let report = refund(&request, &[refunds(&[]), reply(200, &said)]).unwrap();
        assert_eq!((report.status, report.speed), (status, None), "{word}");
    }
}

#[test]
fn a_refund_asked_for_again_is_not_made_twice() {
    let request = refund_request();
    let there = refund(&request, &[refunds(&[("r1", 100, "pending", 5)])]).unwrap();
    assert_eq!(there.id.as_deref(), Some("r1"));
    // One of the same amount was refunded before and is known; ours is the second.
    let second = RefundRequest {
        before: Paise::new(100).unwrap(),
        same_amount_at: Some(Millis::from_seconds(4)),
        ..request.clone()
    };
    let one = refunds(&[("r1", 100, "success", 5)]);
    assert_eq!(asked_for(&second, &[one]).label, "meta.refund");
    let two = refunds(&[("r2", 100, "pending", 9), ("r1", 100, "success", 5)]);
    assert_eq!(
        refund(&second, &[two]).unwrap().id.as_deref(),
        Some("r2"),
        "the later one"
    );
    // Others of other amounts, and failed ones, are not it.
    for list in [
        refunds(&[]),
        refunds(&[("r1", 100, "failed", 5)]),
        refunds(&[("r1", 99, "success", 5)]),
        refunds(&[("r1", 900, "success", 5)]),
    ] {
        assert_eq!(asked_for(&request, &[list]).label, "meta.refund");
    }
}

/// Three equal refunds, one done, two whose answers were lost: what is listed under no name is shared out in their sequence.
#[test]
fn equal_refunds_without_names_are_shared_out() {
    let done = ("r1", 100, "success", 5);
    let waiting = |ahead: usize, unnamed: &[&str]| RefundRequest {
        before: Paise::new(200).unwrap(),
        others: ["r1"]
            .iter()
            .chain(unnamed)
            .map(|id| (*id).to_owned())
            .collect(),
        unnamed: unnamed.iter().map(|id| (*id).to_owned()).collect(),
        ahead,
        same_amount_at: Some(Millis::from_seconds(4)),
        ..refund_request()
    };
    let both = [("r3", 100, "pending", 9), ("r2", 100, "success", 7), done];
    for (ahead, id) in [(0, "r2"), (1, "r3")] {
        let found = refund(&waiting(ahead, &["r3", "r2"]), &[refunds(&both)]).unwrap();
        assert_eq!(found.id.as_deref(), Some(id));
    }
    // Only one of the two was made: it is the first one's, and the other waits until that is written down.
    let one = || [refunds(&[("r2", 100, "success", 7), done])];
    let found = refund(&waiting(0, &["r2"]), &one()).unwrap();
    assert_eq!(found.id.as_deref(), Some("r2"));
    let other = refund(&waiting(1, &["r2"]), &one());
    assert!(
        matches!(other, Err(CallError::Unavailable { .. })),
        "{other:?}"
    );
    let left = RefundRequest {
        others: vec!["r1".to_owned(), "r2".to_owned()],
        ..waiting(0, &[])
    };
    assert_eq!(asked_for(&left, &one()).label, "meta.refund");
}

/// A dashboard's refund of the same amount is not taken for one that was never asked for.
#[test]
fn a_first_refund_is_none_of_those_listed() {
    let first = RefundRequest {
        first: true,
        ..refund_request()
    };
    let list = [refunds(&[("r1", 100, "success", 5)])];
    assert_eq!(asked_for(&first, &list).label, "meta.refund");
}

/// What is listed, what else is reserved, whether a twin came before, the ids of others: asked for, found, or left for later.
#[test]
fn a_refund_that_cannot_be_told_from_others_waits() {
    const ASK: &str = "ask";
    const WAIT: &str = "wait";
    let (a, b, other) = (
        ("a", 100, "success", 5),
        ("b", 100, "pending", 9),
        ("other", 300, "success", 7),
    );
    for (list, before, twin, others, expected) in [
        // The first time, alone and beside others of other amounts, made or not.
        (&[][..], 0, false, &[][..], ASK),
        (&[other], 300, false, &[], ASK),
        (&[], 300, false, &[], ASK),
        // Asked again.
        (&[a], 0, false, &[], "a"),
        (&[a, other], 300, false, &[], "a"),
        (&[b, a], 100, true, &[], "b"),
        (&[a, b], 100, false, &[], "a"),
        (&[a, b, other], 400, true, &[], "b"),
        // The twin is there and ours is not.
        (&[a], 100, true, &[], ASK),
        (&[a, other], 400, true, &[], ASK),
        // Something else is not there yet, so the one listed may be ours.
        (&[a], 300, false, &[], WAIT),
        (&[a], 100, false, &[], WAIT),
        (&[a], 100, false, &["b"], WAIT),
        (&[a], 100, true, &["b"], WAIT),
        // The one listed is another: it waited for ever when its twin was asked for later and taken at once.
        (&[a], 100, false, &["a"], ASK),
        (&[a], 100, true, &["a"], ASK),
        (&[a, other], 400, false, &["a", "other"], ASK),
        (&[other], 400, false, &["other"], ASK),
        // What is left beside others is ours.
        (&[a, b], 100, false, &["a"], "b"),
        (&[a, b], 100, true, &["b"], "a"),
        (&[a, b, other], 400, false, &["a", "other"], "b"),
        (&[a, b, other], 400, true, &["b"], "a"),
        // Two wait for their ids, and what is listed was taken for the dashboard's.
        (&[a], 200, false, &["a"], WAIT),
        (&[a, b], 300, true, &["a", "b"], WAIT),
        (&[a, b], 400, true, &[], WAIT),
        (&[a], 400, true, &[], WAIT),
        (&[a, b], 150, true, &[], WAIT),
    ] {
        let request = RefundRequest {
            before: Paise::new(before).unwrap(),
            others: others.iter().map(|id| (*id).to_owned()).collect(),
            same_amount_at: twin.then(|| Millis::from_seconds(4)),
            ..refund_request()
        };
        let answer = [refunds(list)];
        let seen = match channel().refund(&request, &answer) {
            Step::Call(_) => ASK.to_owned(),
            Step::Done(Ok(report)) => report.id.unwrap(),
            Step::Done(Err(CallError::Unavailable { .. })) => WAIT.to_owned(),
            Step::Done(Err(error)) => panic!("{error}"),
        };
        assert_eq!(seen, expected, "{list:?} {before} {twin} {others:?}");
        let looked = match channel().lookup_refund(&request, &answer) {
            Step::Done(Ok(None)) => ASK.to_owned(),
            Step::Done(Ok(Some(report))) => report.id.unwrap(),
            Step::Done(Err(CallError::Unavailable { .. })) => WAIT.to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(looked, expected, "{list:?} {before} {twin} {others:?}");
    }
}

#[test]
fn a_refund_goes_to_the_payment_meant_or_nowhere() {
    let request = refund_request();
    let other = RefundRequest {
        payment_id: "pay_N2".into(),
        ..request.clone()
    };
    let mut failed = fixture("meta/resp_lookup_captured.json");
    failed["payments"][0]["transactions"][0]["status"] = json!("failed");
    let mut foreign = fixture("meta/resp_lookup_captured.json");
    foreign["payments"][0]["reference_id"] = json!("INV-2");
    for (request, answer) in [
        (&other, refunds(&[])),
        (&request, reply(200, &failed)),
        (&request, reply(200, &foreign)),
        (&request, reply(200, &json!({"payments": []}))),
    ] {
        assert!(
            matches!(refund(request, &[answer]), Err(CallError::Rejected { code, .. }) if code == "refund_no_payment")
        );
    }
    // By the order's id too, which stands for the payment until there is one.
    let by_order = RefundRequest {
        payment_id: "order_N1".into(),
        ..request.clone()
    };
    assert_eq!(asked_for(&by_order, &[refunds(&[])]).label, "meta.refund");
    let mut broken = fixture("meta/resp_lookup_captured.json");
    broken["payments"][0]["transactions"][0]["refunds"] = json!([{"id": "r1"}]);
    for answer in [
        Answer::Lost("x".into()),
        Answer::NotSent("x".into()),
        raw(502, None, ""),
        reply(500, &fixture("meta/resp_lookup_error.json")),
        reply(200, &broken),
        reply(200, &json!({})),
    ] {
        assert!(
            matches!(
                refund(&request, std::slice::from_ref(&answer)),
                Err(CallError::Unavailable { .. })
            ),
            "{answer:?}"
        );
    }
}

/// Meta's call names the message only: with two payments of it, the money could go back from the wrong one.
#[test]
fn no_refund_is_made_of_a_message_paid_twice() {
    let mut document = fixture("meta/resp_lookup_captured.json");
    let mut second = document["payments"][0].clone();
    second["transactions"][0]["pg_transaction_id"] = json!("pay_N2");
    let payments = document["payments"].as_array_mut().unwrap();
    payments.push(second);
    let answer = reply(200, &document);
    assert!(
        matches!(refund(&refund_request(), std::slice::from_ref(&answer)), Err(CallError::Rejected { code, .. }) if code == "paid_more_than_once")
    );
    let first = RefundRequest {
        first: true,
        ..refund_request()
    };
    assert!(
        matches!(refund(&first, &[answer]), Err(CallError::Rejected { code, .. }) if code == "paid_more_than_once")
    );
    // A second attempt that failed is no second payment.
    document["payments"][1]["transactions"][0]["status"] = json!("failed");
    document["payments"][1]["status"] = json!("pending");
    let answer = reply(200, &document);
    assert_eq!(asked_for(&refund_request(), &[answer]).label, "meta.refund");
}

#[test]
fn a_refund_whose_answer_is_in_doubt_is_in_doubt() {
    let request = refund_request();
    let ends = |answer: &Answer| refund(&request, &[refunds(&[]), answer.clone()]);
    let error = |code: i64| json!({"error": {"code": code, "message": "x"}}).to_string();
    let worded = |code: i64, details: &str| {
        json!({"error": {"code": code, "message": "Refund failed", "error_data": {"details": details}}})
            .to_string()
    };
    // The gateway's words for a balance that does not cover it, whatever code Meta has for that.
    for code in [131_009, 131_000, 1, 500] {
        let answer = raw(
            if code == 131_000 { 500 } else { 400 },
            None,
            &worded(
                code,
                "Your account does not have enough balance to carry out the refund operation.",
            ),
        );
        assert!(
            matches!(
                ends(&answer),
                Err(CallError::NotNow {
                    obstacle: Obstacle::InsufficientBalance,
                    ..
                })
            ),
            "{answer:?}"
        );
    }
    for answer in [
        Answer::Lost("x".into()),
        raw(200, None, "{}"),
        raw(200, None, "<html>"),
        raw(200, None, "{\"id\":\"r\"}"),
        raw(200, None, &error(100)),
        raw(500, None, ""),
        raw(503, None, &error(987_654)),
        raw(500, None, &error(131_000)),
        raw(503, None, &error(2)),
        raw(400, None, &error(1)),
        raw(408, None, ""),
        reply(400, &fixture("meta/resp_lookup_error.json")),
    ] {
        assert!(
            matches!(ends(&answer), Err(CallError::Unknown { .. })),
            "{answer:?}"
        );
    }
    for answer in [
        Answer::NotSent("x".into()),
        raw(429, Some(3), ""),
        raw(429, Some(3), &error(987_654)),
        raw(400, Some(3), &error(130_429)),
        raw(400, None, &error(4)),
        raw(400, None, &error(80_007)),
    ] {
        assert!(
            matches!(ends(&answer), Err(CallError::Unavailable { .. })),
            "{answer:?}"
        );
    }
    for (answer, code) in [
        (raw(400, None, &error(131_009)), "131009"),
        (raw(401, None, &error(190)), "190"),
        (raw(400, None, &error(987_654)), "987654"),
        (raw(404, None, ""), "http_404"),
        (
            raw(400, None, &worded(131_009, "more than is left to refund")),
            "131009",
        ),
    ] {
        assert!(
            matches!(ends(&answer), Err(CallError::Rejected { code: c, .. }) if c == code),
            "{answer:?}"
        );
    }
}

#[test]
fn what_became_of_a_refund_is_looked_up() {
    let look = |request: &RefundRequest, answer: Answer| {
        let Step::Call(call) = channel().lookup_refund(request, &[]) else {
            panic!()
        };
        assert!(call.url.ends_with("/payments/shop%20%2F%20test/INV-1"));
        match channel().lookup_refund(request, &[answer]) {
            Step::Done(result) => result,
            Step::Call(call) => panic!("{call:?}"),
        }
    };
    let request = refund_request();
    assert_eq!(look(&request, refunds(&[])), Ok(None));
    assert_eq!(
        look(&request, refunds(&[("r1", 100, "failed", 5)])),
        Ok(None),
        "nothing was paid, so it may be asked for again"
    );
    let found = look(&request, refunds(&[("r1", 100, "success", 5)])).unwrap();
    assert_eq!(found.unwrap().status, RefundStatus::Processed);
    let named = RefundRequest {
        gateway_refund_id: Some("r1".into()),
        ..request.clone()
    };
    let list = [("r2", 100, "success", 9), ("r1", 100, "failed", 5)];
    let found = look(&named, refunds(&list)).unwrap().unwrap();
    assert_eq!(
        (found.id.as_deref(), found.status),
        (Some("r1"), RefundStatus::Failed)
    );
    assert!(
        matches!(
            look(&named, refunds(&[])),
            Err(CallError::Unavailable { .. })
        ),
        "accepted once, so never again"
    );
    assert!(matches!(
        look(&request, Answer::Lost("x".into())),
        Err(CallError::Unavailable { .. })
    ));
}

#[test]
fn without_a_configuration_there_is_nothing_to_refund() {
    let linked = json!({"mode": "payment_link", "gateway": "razorpay", "credentials": {}});
    let c = chatbill_channels::open(&tenant(&settings(), &linked)).unwrap();
    let request = refund_request();
    assert!(matches!(
        c.refund(&request, &[]),
        Step::Done(Err(CallError::Unsupported(_)))
    ));
    assert!(matches!(
        c.lookup_refund(&request, &[]),
        Step::Done(Err(CallError::Unsupported(_)))
    ));
    assert_eq!(c.check_refund(&request)[0].code, "impossible");
}

#[test]
fn more_than_is_left_is_not_refunded() {
    let faults = |amount: i64, before: i64| {
        channel().check_refund(&RefundRequest {
            amount: Paise::new(amount).unwrap(),
            before: Paise::new(before).unwrap(),
            ..refund_request()
        })
    };
    assert_eq!(faults(1000, 0), []);
    assert_eq!(faults(400, 600), []);
    for (amount, before) in [(1001, 0), (401, 600), (i64::MAX, 1)] {
        let found = faults(amount, before);
        assert_eq!(
            (found[0].pointer.as_str(), found[0].code),
            ("/amount", "too_large")
        );
    }
}

#[test]
fn a_lookup_tells_refunds_too() {
    let found = look(refunds(&[
        ("r1", 100, "success", 5),
        ("r2", 50, "pending", 6),
    ]))
    .unwrap();
    assert_eq!(found.reports.len(), 1);
    let seen: Vec<_> = found
        .refunds
        .iter()
        .map(|r| (r.id.as_deref(), r.amount.get(), r.payment_id.as_str()))
        .collect();
    assert_eq!(
        seen,
        [(Some("r1"), 100, "pay_N1"), (Some("r2"), 50, "pay_N1")]
    );
    // One that cannot be read does not hide the payment.
    let mut document = fixture("meta/resp_lookup_captured.json");
    document["payments"][0]["transactions"][0]["refunds"] = json!([{"id": "r1"}]);
    let found = look(reply(200, &document)).unwrap();
    assert_eq!((found.reports.len(), found.refunds.len()), (1, 0));
}

/// What `check --live` finds with these payment settings and this answer.
fn checked(payment: &Value, answer: Answer) -> Result<Vec<Fault>, CallError> {
    let c = chatbill_channels::open(&tenant(&settings(), payment)).unwrap();
    match c.check_account(&[]) {
        Step::Done(result) => result,
        Step::Call(call) => {
            assert_eq!(call.label, "meta.payment_configurations");
            match c.check_account(&[answer]) {
                Step::Done(result) => result,
                Step::Call(call) => panic!("{call:?}"),
            }
        }
    }
}

#[test]
fn the_account_is_asked_for_the_payment_configuration() {
    let native = |name: &str, gateway: &str| json!({"mode": "payment_gateway", "gateway": gateway, "configuration_name": name, "credentials": {}});
    let ours = native("test-payment-configuration", "razorpay");
    let Step::Call(call) = channel().check_account(&[]) else {
        panic!()
    };
    insta::assert_json_snapshot!("payment_configurations", printed(&call));
    let sample = fixture("meta/resp_payment_configurations.json");
    assert_eq!(checked(&ours, reply(200, &sample)), Ok(vec![]));
    let codes = |payment: &Value, document: &Value| -> Vec<&'static str> {
        let faults = checked(payment, reply(200, document)).unwrap();
        assert!(
            faults
                .iter()
                .all(|f| f.pointer == "/payment/configuration_name")
        );
        faults.into_iter().map(|f| f.code).collect()
    };
    assert_eq!(codes(&native("other", "razorpay"), &sample), ["unknown"]);
    assert_eq!(codes(&ours, &json!({"data": []})), ["unknown"]);
    assert_eq!(
        codes(&native("test-payment-configuration", "payu"), &sample),
        ["inconsistent"]
    );
    for status in ["Needs_Testing", "Needs Testing", "Needs_Connecting", ""] {
        let mut asleep = sample.clone();
        asleep["data"][0]["payment_configurations"][0]["status"] = json!(status);
        assert_eq!(codes(&ours, &asleep), ["inactive"], "{status}");
    }
    let mut loose = sample.clone();
    loose["data"][0]["payment_configurations"][0]["status"] = json!("ACTIVE");
    assert!(codes(&ours, &loose).is_empty());

    let linked = json!({"mode": "payment_link", "gateway": "razorpay", "configuration_name": "other", "credentials": {}});
    assert_eq!(
        checked(&linked, Answer::Lost("never asked".into())),
        Ok(vec![])
    );

    for answer in [
        Answer::Lost("x".into()),
        raw(500, None, "<html>"),
        raw(200, None, "{}"),
    ] {
        assert!(matches!(
            checked(&ours, answer),
            Err(CallError::Unavailable { .. })
        ));
    }
    let refused = json!({"error": {"code": 131_005, "message": "Access denied", "error_data": {"details": "Accept the terms: https://fb.me/12345"}}});
    assert!(
        matches!(checked(&ours, reply(403, &refused)), Err(CallError::Rejected { code, reason }) if code == "131005" && reason.contains("https://fb.me/12345"))
    );
}
