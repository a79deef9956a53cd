//! Meta's WhatsApp Cloud API.

use chatbill_domain::bill::Header;
use chatbill_domain::connector::{Channel, SendStep, Signal, Trust};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::message::{
    Checkout, Content, Fulfilment, MessageKey, Outgoing, Progress, Remedy, Report, SendFailure,
    Template, Variable,
};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{AttemptStatus, Found};
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
        uri: "upi://pay?pa=shop@bank&pn=Acme%20Stores&am=840.00&cu=INR&mc=5411&tr=BM345A-12",
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
            Some(json!("1:reference-id-value:invoice.1:1"))
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
    (4, Remedy::Retry),
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
    (80_007, Remedy::Retry),
    (130_429, Remedy::Retry),
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
    (131_042, Remedy::Alert),
    (131_044, Remedy::Alert),
    (131_047, Remedy::UseTemplate),
    (131_048, Remedy::GiveUp),
    (131_049, Remedy::GiveUp),
    (131_050, Remedy::GiveUp),
    (131_051, Remedy::GiveUp),
    (131_053, Remedy::RetryOnce),
    (131_056, Remedy::RetryPair),
    (131_057, Remedy::RetryAfter(60)),
    (131_064, Remedy::GiveUp),
    (132_000, Remedy::Alert),
    (132_001, Remedy::Alert),
    (132_005, Remedy::GiveUp),
    (132_007, Remedy::Alert),
    (132_008, Remedy::Alert),
    (132_012, Remedy::Alert),
    (132_015, Remedy::Alert),
    (132_016, Remedy::Alert),
    (133_010, Remedy::Alert),
    (133_016, Remedy::Alert),
    (134_011, Remedy::Alert),
    (135_000, Remedy::RetryOnce),
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
    assert_eq!(remedy(429, Some(9), &said(130_429)), Remedy::RetryAfter(9));
    assert_eq!(remedy(500, Some(9), &said(131_057)), Remedy::RetryAfter(60));
    assert_eq!(
        remedy(500, Some(90), &said(131_057)),
        Remedy::RetryAfter(90)
    );
    assert_eq!(remedy(400, Some(9), &said(131_047)), Remedy::UseTemplate);
    assert_eq!(remedy(429, Some(9), "slow down"), Remedy::RetryAfter(9));
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
    assert_eq!(remedy(raw(429, None, "")), Remedy::Retry);
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
    let tagged = |word: &str| json!({"id": "wamid.1", "status": word, "timestamp": "1", "biz_opaque_callback_data": "1:INV-1:invoice.2:3"});
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
        let Signal::Message { tag, report } = signal else {
            panic!("{signal:?}")
        };
        assert_eq!(
            (tag.reference.as_str(), &tag.message, tag.attempt),
            ("INV-1", &MessageKey::Invoice(2), 3)
        );
        assert_eq!(*report, Report::Progress(progress));
    }
    assert!(
        matches!(&read[3], Signal::Ignored(text) if !text.contains("wamid")),
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
    assert_eq!(
        failure.detail,
        "More than 24 hours have passed since the recipient last replied"
    );
    let bare = json!([{"id": "w", "status": "failed", "biz_opaque_callback_data": "1:INV-1:paid:1"},
                      {"id": "w", "status": "failed", "biz_opaque_callback_data": "1:INV-1:paid:1", "errors": [{"code": 1_234_567}]}]);
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
    list.push(json!({"status": "sent", "biz_opaque_callback_data": "1:../:paid:1"}));
    list.push(good);
    let mut hook = statuses(json!(list));
    let entries = hook["entry"].as_array_mut().unwrap();
    entries.insert(0, json!("nonsense"));
    entries.insert(0, json!({"changes": [null, {"field": 5}, {"field": "messages", "value": {
        "messages": [{"from": "919876543210", "text": {"body": "hello"}}], "errors": [{"code": 131_005, "title": "Access denied"}]}}]}));
    let read = signals(&hook);
    assert_eq!(read.len(), 4 + 8);
    assert!(matches!(read.last(), Some(Signal::Payment { .. })));
    assert!(
        read.iter()
            .rev()
            .skip(1)
            .all(|s| matches!(s, Signal::Ignored(_)))
    );
    assert!(!format!("{read:?}").contains("9876543210") && !format!("{read:?}").contains("hello"));
}

#[test]
fn another_number_s_reports_are_not_ours() {
    let mut hook = fixture("meta/wh_payment_captured.json");
    hook["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = json!("1");
    assert!(matches!(&signals(&hook)[..], [Signal::Ignored(_)]));
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
