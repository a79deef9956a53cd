//! Exotel: WhatsApp and SMS.

use chatbill_domain::connector::{Channel, Notice, SendStep, Signal, Trust, Wish};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::message::{
    Checkout, Content, Form, Fulfilment, MessageKey, Outgoing, Progress, QrCode, Remedy, Report,
    SendFailure,
};
use chatbill_domain::payment::AttemptStatus;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use serde_json::{Value, json};

use crate::support::{
    Letter, Probe, bill, bytes, fixture, full_bill, printed, refund, reply, small_bill, tenant,
};

const TOKEN: &str = "a secret/in the address";

fn whatsapp() -> Value {
    json!({
        "kind": "whatsapp", "provider": "exotel", "from": "+918047109880",
        "credentials": {"account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": TOKEN},
    })
}

fn sms() -> Value {
    json!({
        "kind": "sms", "provider": "exotel", "from": "+918047109880",
        "credentials": {"account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": TOKEN,
                        "sender": "ACMEST", "dlt_entity_id": "1201159125000000001",
                        "dlt_template_ids": {"invoice": "1107160000000000001", "paid": "1107160000000000002",
                                             "canceled": "1107160000000000003",
                                             "status": {"id": "1107160000000000004", "text": "₹ ऑर्डर {#var#}: {#var#}",
                                                        "variables": ["reference_id", "status"]}}},
    })
}

/// WhatsApp, and SMS when it fails.
fn both() -> Value {
    let mut settings = sms();
    settings["kind"] = json!("whatsapp");
    settings["fallback_to_sms"] = json!(true);
    settings
}

fn native() -> Value {
    json!({"mode": "payment_gateway", "gateway": "razorpay", "configuration_name": "your_payment_config", "credentials": {}})
}

fn linked() -> Value {
    json!({"mode": "payment_link", "gateway": "razorpay", "credentials": {}})
}

fn channel(settings: &Value) -> Box<dyn Channel> {
    chatbill_channels::open(&tenant(settings, &linked())).unwrap()
}

fn sent_to_us(body: &[u8], token: &str) -> RawWebhook {
    RawWebhook {
        headers: vec![],
        query: vec![("token".into(), token.into())],
        body: body.to_vec(),
    }
}

pub(crate) fn probe() -> Probe {
    let body = bytes("exotel/wh_dlr_delivered.json");
    Probe {
        tenant: tenant(&whatsapp(), &native()),
        webhook: sent_to_us(&body, TOKEN),
        tampered: sent_to_us(&body, "a secret/in the addresS"),
        calls: &[
            "whatsapp_invoice_nested",
            "whatsapp_invoice_flat",
            "whatsapp_invoice_link",
            "whatsapp_status",
            "whatsapp_receipt",
            "sms_invoice",
            "sms_paid",
            "sms_status_unicode",
            "whatsapp_invoice_qr",
            "sms_fallback",
        ],
    }
}

const LINK: Checkout<'static> = Checkout::Link {
    url: "https://rzp.io/i/nxrHnLJ",
};
const CONFIGURATION: Checkout<'static> = Checkout::Configuration {
    gateway: "razorpay",
    name: "your_payment_config",
};

fn invoice(payment: Checkout<'_>) -> Content<'_> {
    Content::Invoice { payment }
}

fn changed(status: Fulfilment) -> Content<'static> {
    Content::Status {
        status,
        description: Some("We are preparing your order."),
        text: "Your order has been confirmed!".into(),
    }
}

fn receipt() -> Content<'static> {
    Content::Receipt {
        text: "Thank you!".into(),
    }
}

/// As the flow puts it: everything of an SMS tenant goes out in that form.
fn formed<'a>(settings: &Value, message: Outgoing<'a>) -> Outgoing<'a> {
    let form = if settings["kind"] == "sms" {
        Form::Sms
    } else {
        message.form
    };
    Outgoing { form, ..message }
}

fn by_sms(message: Outgoing<'_>) -> Outgoing<'_> {
    Outgoing {
        form: Form::Sms,
        ..message
    }
}

fn call(settings: &Value, message: &Outgoing<'_>) -> HttpCall {
    let message = formed(settings, message.clone());
    match channel(settings).send(&message, &[]) {
        SendStep::Call(call) => *call,
        other => panic!("{other:?}"),
    }
}

fn flat() -> Value {
    let mut settings = whatsapp();
    settings["credentials"]["order_details_form"] = json!("flat");
    settings
}

#[test]
fn the_calls() {
    let full = Letter::new(bill(&full_bill()));
    let small = Letter::new(bill(&small_bill()));
    let show = |settings: &Value, message: &Outgoing<'_>| printed(&call(settings, message));
    insta::assert_json_snapshot!(
        "whatsapp_invoice_nested",
        show(&whatsapp(), &full.outgoing(invoice(CONFIGURATION), None))
    );
    insta::assert_json_snapshot!(
        "whatsapp_invoice_flat",
        show(&flat(), &small.outgoing(invoice(CONFIGURATION), None))
    );
    insta::assert_json_snapshot!(
        "whatsapp_invoice_link",
        show(&whatsapp(), &small.outgoing(invoice(LINK), None))
    );
    insta::assert_json_snapshot!(
        "whatsapp_status",
        show(
            &whatsapp(),
            &small.outgoing(changed(Fulfilment::PartiallyShipped), None)
        )
    );
    insta::assert_json_snapshot!(
        "whatsapp_receipt",
        show(&whatsapp(), &small.outgoing(receipt(), None))
    );
    insta::assert_json_snapshot!(
        "sms_invoice",
        show(&sms(), &full.outgoing(invoice(LINK), None))
    );
    let mut paid = Letter::new(bill(&full_bill()));
    paid.tag.message = MessageKey::Paid;
    insta::assert_json_snapshot!(
        "sms_paid",
        show(&sms(), &paid.outgoing(changed(Fulfilment::Completed), None))
    );
    let mut status = Letter::new(bill(&small_bill()));
    status.tag.message = MessageKey::Status(1);
    let mut pictured = whatsapp();
    pictured["qr_header"] = json!("link");
    let with_qr = Outgoing {
        qr: Some(QrCode::Link("https://shop.example/r/token/qr.png".into())),
        ..small.outgoing(invoice(LINK), None)
    };
    insta::assert_json_snapshot!("whatsapp_invoice_qr", show(&pictured, &with_qr));
    insta::assert_json_snapshot!(
        "sms_fallback",
        show(&both(), &by_sms(small.outgoing(invoice(LINK), None)))
    );
    insta::assert_json_snapshot!(
        "sms_status_unicode",
        show(
            &sms(),
            &status.outgoing(changed(Fulfilment::PartiallyShipped), None)
        )
    );
}

#[test]
fn the_flat_sample_is_produced() {
    let sample = fixture("exotel/req_order_details_flat.json");
    let mut document = small_bill();
    document["reference_id"] = json!("order_12345");
    document["items"] = json!([{"retailer_id": "SKU001", "name": "Premium Plan - Monthly", "quantity": 1,
                                "amount": {"value": 50_000, "offset": 100}}]);
    document["header"] = json!({"type": "text", "text": "Payment Request"});
    document["body"] = json!("Please complete payment for your order");
    document["footer"] = json!("Powered by Exotel");
    let mut letter = Letter::new(bill(&document));
    letter.seconds_left = 0;
    let mut settings = flat();
    settings["from"] = json!("your_waba_number");
    let call = call(&settings, &letter.outgoing(invoice(CONFIGURATION), None));
    let mut ours: Value = serde_json::from_slice(&call.body.unwrap().1).unwrap();
    assert_eq!(ours["custom_data"], "1:order_12345:invoice.1:1");
    assert_eq!(
        ours["status_callback"],
        "https://shop.example/webhooks/exotel/acme?token=a%20secret%2Fin%20the%20address"
    );
    ours.as_object_mut()
        .unwrap()
        .retain(|name, _| name == "whatsapp");
    // Meta requires both; the sample has neither.
    let order = ours
        .pointer_mut("/whatsapp/messages/0/content/action/parameters/order")
        .unwrap()
        .as_object_mut()
        .unwrap();
    assert!(order.remove("subtotal").is_some() && order.remove("tax").is_some());
    // Ours, for finding the bill again.
    let gateway = ours
        .pointer_mut(
            "/whatsapp/messages/0/content/action/parameters/payment_settings/0/payment_gateway",
        )
        .unwrap()
        .as_object_mut()
        .unwrap();
    let proof = tenant(&settings, &native()).payment.proofs.issue(
        &ReferenceId::parse("order_12345").unwrap(),
        letter.bill.total,
    );
    assert_eq!(
        gateway.remove("razorpay"),
        Some(json!({"notes": {"chatbill_reference": "order_12345", "chatbill_proof": proof}}))
    );
    assert_eq!(ours, sample);
}

#[test]
fn the_order_status_sample_is_produced() {
    let mut document = small_bill();
    document["reference_id"] = json!("ORD-1033");
    let letter = Letter::new(bill(&document));
    for settings in [whatsapp(), flat()] {
        let call = call(
            &settings,
            &letter.outgoing(changed(Fulfilment::Processing), None),
        );
        let ours: Value = serde_json::from_slice(&call.body.unwrap().1).unwrap();
        let sample = fixture("exotel/req_order_status.json");
        assert_eq!(ours["whatsapp"], sample["whatsapp"]);
    }
}

#[test]
fn the_sms_sample_s_fields_are_sent() {
    let letter = Letter::new(bill(&small_bill()));
    let call = call(&sms(), &letter.outgoing(invoice(LINK), None));
    let ours = String::from_utf8(call.body.unwrap().1).unwrap();
    let sample = String::from_utf8(bytes("exotel/sms_req.txt")).unwrap();
    let names = |form: &str| -> Vec<String> {
        form.trim()
            .split('&')
            .map(|pair| pair.split('=').next().unwrap().to_owned())
            .collect()
    };
    for name in names(&sample) {
        assert!(names(&ours).contains(&name), "{name}");
    }
    assert!(ours.contains("To=%2B919876543210&") && sample.contains("To=%2B919876543210&"));
    assert!(ours.contains("&SmsType=transactional&") && sample.contains("&SmsType=transactional&"));
}

fn step(settings: &Value, answer: Answer) -> SendStep {
    let letter = Letter::new(bill(&small_bill()));
    let message = formed(settings, letter.outgoing(invoice(LINK), None));
    channel(settings).send(&message, &[answer])
}

fn failed(settings: &Value, answer: Answer) -> SendFailure {
    match step(settings, answer) {
        SendStep::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn accepted(message: &Value) -> Value {
    json!({"request_id": "r1", "method": "POST", "http_code": 202,
           "metadata": {"total": 1, "success": 1, "failed": 0},
           "response": {"whatsapp": {"messages": [message]}}})
}

#[test]
fn both_documented_answers_are_read_and_the_inner_code_decides() {
    let id = |answer| match step(&whatsapp(), answer) {
        SendStep::Sent { id, segments: None } => id,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        id(reply(200, &fixture("exotel/resp_payment_200.json"))),
        "msg_pay_abc123"
    );
    let good = json!({"code": 202, "error_data": null, "status": "success", "data": {"sid": "s1"}});
    assert_eq!(id(reply(202, &accepted(&good))), "s1");
    let texts = json!({"code": "202", "status": "success", "data": {"sid": "s1"}});
    assert_eq!(id(reply(200, &accepted(&texts))), "s1");

    let inner = |message: Value| {
        let failure = failed(&whatsapp(), reply(202, &accepted(&message)));
        (failure.remedy, failure.code)
    };
    for (code, remedy) in [
        (400, Remedy::GiveUp),
        (401, Remedy::Alert),
        (402, Remedy::Alert),
        (429, Remedy::Throttled(10)),
        (500, Remedy::Retry),
    ] {
        let message = json!({"code": code, "status": "failure", "error_data": {"code": 1001, "message": "no"}});
        assert_eq!(inner(message), (remedy, format!("http_{code}")));
    }
    assert_eq!(inner(json!({"status": "failure"})).0, Remedy::GiveUp);
    assert_eq!(
        inner(
            json!({"code": 400, "status": "failure", "error_data": {"description": "EX_REENGAGEMENT_ERROR"}})
        ),
        (Remedy::UseTemplate, "EX_REENGAGEMENT_ERROR".to_owned())
    );
    let flat = json!({"http_code": 200, "response": {"code": 402, "status": "failed", "message": "Payment Gateway not configured"}});
    let failure = failed(&whatsapp(), reply(200, &flat));
    assert_eq!(
        (failure.remedy, failure.detail.as_str()),
        (Remedy::Alert, "Payment Gateway not configured")
    );
}

#[test]
fn http_statuses_are_classified() {
    let own = json!({"request_id": "r", "http_code": 500, "response": {"error_data": {"message": "to +919876543210 no"}}});
    for (status, remedy) in [
        (400, Remedy::GiveUp),
        (401, Remedy::Alert),
        (402, Remedy::Alert),
        (403, Remedy::Alert),
        (404, Remedy::Alert),
        (408, Remedy::Unknown),
        (429, Remedy::Throttled(10)),
        (500, Remedy::Retry),
        (502, Remedy::Retry),
        (503, Remedy::Retry),
    ] {
        for settings in [whatsapp(), sms()] {
            let failure = failed(&settings, reply(status, &own));
            assert_eq!(
                (failure.remedy, failure.detail.as_str()),
                (remedy, "to +… no"),
                "{status}"
            );
        }
    }
    for (answer, remedy) in [
        (Answer::Lost("timed out".into()), Remedy::Unknown),
        (Answer::NotSent("no route".into()), Remedy::Retry),
        (reply(500, &json!("<html>")), Remedy::Unknown),
        (reply(503, &json!("<html>")), Remedy::Retry),
        (reply(302, &json!({})), Remedy::Alert),
        (reply(202, &json!({})), Remedy::Unknown),
        (reply(200, &json!("ok")), Remedy::Unknown),
        (
            Answer::Reply(HttpReply {
                status: 429,
                retry_after: Some(9),
                body: vec![],
            }),
            Remedy::Throttled(9),
        ),
    ] {
        for settings in [whatsapp(), sms()] {
            assert_eq!(
                failed(&settings, answer.clone()).remedy,
                remedy,
                "{answer:?}"
            );
        }
    }
}

#[test]
fn an_sms_is_queued_with_its_parts_or_refused_with_its_code() {
    let queued =
        json!({"SMSMessage": {"Sid": "s1", "Status": "queued", "DetailedStatusCode": null}});
    let done = step(&sms(), reply(200, &queued));
    assert!(
        matches!(&done, SendStep::Sent { id, segments: Some(1) } if id == "s1"),
        "{done:?}"
    );
    let refused =
        json!({"SMSMessage": {"Sid": "s1", "Status": "failed", "DetailedStatusCode": 23070}});
    assert_eq!(failed(&sms(), reply(200, &refused)).remedy, Remedy::Alert);
    for (code, remedy) in SMS_CODES {
        let said = json!({"RestException": {"Status": 400, "Code": code, "Message": "no"}});
        let failure = failed(&sms(), reply(400, &said));
        assert_eq!((failure.remedy, failure.code), (*remedy, code.to_string()));
    }
    let mut letter = Letter::new(bill(&small_bill()));
    letter.tag.message = MessageKey::Status(1);
    let SendStep::Failed(failure) = channel(&{
        let mut settings = sms();
        settings["credentials"]["dlt_template_ids"]
            .as_object_mut()
            .unwrap()
            .remove("status");
        settings
    })
    .send(
        &by_sms(letter.outgoing(changed(Fulfilment::Shipped), None)),
        &[],
    ) else {
        panic!()
    };
    assert_eq!(
        (failure.remedy, failure.code.as_str()),
        (Remedy::GiveUp, "no_dlt_template")
    );
}

/// "SMS APIs", every code that can meet us.
const SMS_CODES: &[(i64, Remedy)] = &[
    (23_005, Remedy::GiveUp),
    (23_010, Remedy::GiveUp),
    (23_020, Remedy::GiveUp),
    (23_035, Remedy::Retry),
    (23_050, Remedy::GiveUp),
    (23_070, Remedy::Alert),
    (23_072, Remedy::Alert),
    (23_080, Remedy::Alert),
    (23_081, Remedy::Alert),
    (23_082, Remedy::Alert),
    (23_083, Remedy::Alert),
    (23_084, Remedy::Alert),
    (23_181, Remedy::Alert),
    (23_182, Remedy::Alert),
    (23_183, Remedy::Alert),
    (23_184, Remedy::Alert),
    (23_185, Remedy::Alert),
    (23_186, Remedy::Alert),
    (23_281, Remedy::Alert),
    (24_010, Remedy::Retry),
    (24_110, Remedy::Retry),
    (34_009, Remedy::Alert),
    (34_010, Remedy::Alert),
    (40_001, Remedy::Alert),
    (40_002, Remedy::Alert),
    (40_200, Remedy::GiveUp),
    (40_203, Remedy::GiveUp),
    (40_204, Remedy::Alert),
    (40_205, Remedy::Alert),
    (40_206, Remedy::Alert),
    (40_209, Remedy::GiveUp),
    (40_210, Remedy::Alert),
    (40_402, Remedy::Throttled(10)),
    (40_403, Remedy::Throttled(10)),
    (40_405, Remedy::Throttled(10)),
];

/// "WhatsApp Status Codes", every text.
const STATUSES: &[(&str, Remedy)] = &[
    ("EX_SYSTEM_ERROR", Remedy::Retry),
    ("EX_NUMBER_ERROR", Remedy::GiveUp),
    ("EX_SETUP_ERROR", Remedy::Alert),
    ("EX_RATE_LIMIT_HIT", Remedy::Throttled(10)),
    ("EX_SPAM_RATE_LIMIT_HIT", Remedy::GiveUp),
    ("EX_TOO_MANY_REQUEST", Remedy::Throttled(10)),
    ("EX_INVALID_REQUEST", Remedy::GiveUp),
    ("EX_UNKNOWN_ERROR", Remedy::RetryOnce),
    ("EX_INVALID_RECIPIENT", Remedy::GiveUp),
    ("EX_INCAPABLE_RECIPIENT", Remedy::GiveUp),
    ("EX_RECIPIENT_BLOCKED", Remedy::GiveUp),
    ("EX_UNSUPPORTED_MESSAGE", Remedy::GiveUp),
    ("EX_MEDIA_DOWNLOAD_ERROR", Remedy::Media),
    ("EX_MEDIA_UPLOAD_ERROR", Remedy::Media),
    ("EX_REENGAGEMENT_ERROR", Remedy::UseTemplate),
    ("EX_INVALID_PARAM", Remedy::GiveUp),
    ("EX_MISSING_PARAM", Remedy::GiveUp),
    ("EX_INVALID_PARAM_VALUE", Remedy::GiveUp),
    ("EX_TEMPLATE_ERROR", Remedy::Alert),
    ("EX_TEMPLATE_PARAM_ERROR", Remedy::Alert),
    ("EX_TEMPLATE_NOT_FOUND", Remedy::Alert),
    ("EX_TEMPLATE_TEXT_TOO_LONG", Remedy::GiveUp),
    ("EX_INVALID_TEMPLATE_NAMESPACE", Remedy::Alert),
    ("EX_MESSAGE_PENDING_TOO_LONG", Remedy::GiveUp),
    ("EX_MESSAGE_EXPIRED", Remedy::GiveUp),
    ("EX_MESSAGE_TOO_LONG", Remedy::GiveUp),
    ("EX_WEBHOOK_ERROR", Remedy::Alert),
    ("EX_CATALOGUE_NOT_FOUND", Remedy::GiveUp),
    ("EX_CATALOGUE_NOT_LINKED", Remedy::Alert),
    ("EX_MISSING_PRODUCT", Remedy::GiveUp),
    ("EX_PRODUCT_NOT_FOUND", Remedy::GiveUp),
    ("EX_PRODUCT_COMPLIANCE_ERROR", Remedy::GiveUp),
    ("EX_INVALID_HEADER", Remedy::GiveUp),
    ("EX_MISSING_COMPLIANCE", Remedy::GiveUp),
    ("EX_CHAR_POLICY_VIOLATION", Remedy::GiveUp),
    ("EX_NOBODY_KNOWS", Remedy::GiveUp),
];

#[test]
fn every_rule_has_a_test() {
    let source = include_str!("../../src/exotel.rs");
    let between = |start: &str| {
        let (_, rest) = source.split_once(start).unwrap();
        rest.split_once("];").unwrap().0.matches("Remedy::").count()
    };
    assert_eq!(between("const STATUSES: "), STATUSES.len() - 1);
    assert_eq!(between("const SMS_CODES: "), SMS_CODES.len());
}

fn signals(body: &[u8]) -> Vec<Signal> {
    let c = channel(&whatsapp());
    let verified = c.verify(sent_to_us(body, TOKEN)).unwrap();
    c.read(&verified).unwrap()
}

fn only(body: &[u8]) -> Signal {
    match &signals(body)[..] {
        [one] => one.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_documented_webhook_is_read() {
    let mut seen = serde_json::Map::new();
    for name in [
        "wh_dlr_delivered",
        "wh_incoming",
        "wh_incoming_portal",
        "wh_payment_status_flat",
    ] {
        let read: Vec<String> = signals(&bytes(&format!("exotel/{name}.json")))
            .iter()
            .map(|s| format!("{s:?}"))
            .collect();
        seen.insert(name.into(), json!(read));
    }
    insta::assert_json_snapshot!("webhooks", Value::Object(seen));
}

fn dlr(change: &dyn Fn(&mut Value)) -> Signal {
    let mut hook = fixture("exotel/wh_dlr_delivered.json");
    let message = hook.pointer_mut("/whatsapp/messages/0").unwrap();
    message["custom_data"] = json!("1:INV-1:invoice.2:3");
    change(message);
    only(hook.to_string().as_bytes())
}

#[test]
fn delivery_reports_find_their_order() {
    for (name, code, progress) in [
        ("EX_MESSAGE_SENT", 30_001, Progress::Sent),
        ("EX_MESSAGE_DELIVERED", 30_002, Progress::Delivered),
        ("EX_MESSAGE_SEEN", 30_003, Progress::Read),
    ] {
        for form in [
            json!({"exo_detailed_status": name, "exo_status_code": code}),
            json!({"exo_detailed_status": name}),
            json!({"exo_status_code": code}),
            json!({"exo_status_code": code.to_string(), "message_sid": "m"}),
        ] {
            let signal = dlr(&|m| {
                let fields = m.as_object_mut().unwrap();
                fields.retain(|name, _| !name.starts_with("exo_") && name != "sid");
                fields.extend(form.as_object().unwrap().clone());
            });
            let Signal::Message { tag, report, .. } = signal else {
                panic!("{signal:?}")
            };
            assert_eq!(
                (tag.reference.as_str(), &tag.message, tag.attempt),
                ("INV-1", &MessageKey::Invoice(2), 3)
            );
            assert_eq!(report, Report::Progress(progress));
        }
    }
    // An earlier edition of the page gives 30002 to a failure; the text decides.
    let signal = dlr(&|m| m["exo_detailed_status"] = json!("EX_REENGAGEMENT_ERROR"));
    assert!(matches!(
        signal,
        Signal::Message {
            report: Report::Failed(_),
            ..
        }
    ));
    let foreign = dlr(&|m| m["custom_data"] = json!("Order12"));
    assert!(matches!(foreign, Signal::Ignored(_)));
    let silent = dlr(&|m| {
        m.as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with("exo_"))
    });
    assert!(matches!(silent, Signal::Ignored(_)));
}

#[test]
fn failures_are_classified_by_their_text() {
    for (name, remedy) in STATUSES {
        let signal = dlr(&|m| {
            m["exo_detailed_status"] = json!(name);
            m["exo_status_code"] = json!(30_011);
            m["description"] = json!("for +91 98765 43210");
        });
        let Signal::Message {
            report: Report::Failed(failure),
            ..
        } = signal
        else {
            panic!("{name}")
        };
        assert_eq!(
            (
                failure.remedy,
                failure.code.as_str(),
                failure.detail.as_str()
            ),
            (*remedy, *name, "for +…")
        );
    }
    let signal = dlr(&|m| {
        m["exo_detailed_status"] = json!("");
        m["exo_status_code"] = json!(30_012);
    });
    assert!(
        matches!(&signal, Signal::Message { report: Report::Failed(f), .. } if f.code == "30012" && f.remedy == Remedy::GiveUp),
        "{signal:?}"
    );
}

/// Nothing counts as failed that may be well on its way: it could bring a second message by SMS.
#[test]
fn a_report_nobody_knows_is_no_failure() {
    for (word, code) in [
        ("EX_NOBODY_KNOWS", json!(30_099)),
        ("EX_NOBODY_KNOWS", Value::Null),
        ("EX_PAYMENT_PENDING", json!(30_049)),
        ("", json!(30_050)),
        ("", json!(20_005)),
    ] {
        let signal = dlr(&|m| {
            m["exo_detailed_status"] = json!(word);
            m["exo_status_code"] = code.clone();
        });
        assert!(
            matches!(signal, Signal::Noticed(Notice::DeliveryWord, _)),
            "{word} {code}: {signal:?}"
        );
    }
    for code in 30_004..=30_041 {
        let signal = dlr(&|m| {
            m["exo_detailed_status"] = json!("");
            m["exo_status_code"] = json!(code);
        });
        assert!(
            matches!(&signal, Signal::Message { report: Report::Failed(f), .. } if f.remedy == Remedy::GiveUp),
            "{code}: {signal:?}"
        );
    }
}

/// The codes that say at once or later that WhatsApp will not do, each with a remedy that lets the SMS follow.
#[test]
fn what_whatsapp_cannot_do_leaves_the_way_to_sms() {
    let ends = |remedy| {
        chatbill_domain::delivery::wait(1, remedy, 0).is_none() && remedy != Remedy::Unknown
    };
    for word in [
        "EX_NUMBER_ERROR",
        "EX_INVALID_RECIPIENT",
        "EX_INCAPABLE_RECIPIENT",
        "EX_RECIPIENT_BLOCKED",
        "EX_REENGAGEMENT_ERROR",
        "EX_MESSAGE_EXPIRED",
        "EX_MESSAGE_PENDING_TOO_LONG",
        "EX_SPAM_RATE_LIMIT_HIT",
    ] {
        let signal = dlr(&|m| m["exo_detailed_status"] = json!(word));
        assert!(
            matches!(&signal, Signal::Message { report: Report::Failed(f), .. } if ends(f.remedy)),
            "{word}: {signal:?}"
        );
        let message = json!({"code": 400, "status": "failure", "data": null,
            "error_data": {"code": 30_012, "message": word, "description": ""}});
        let failure = failed(&both(), reply(202, &accepted(&message)));
        assert!(ends(failure.remedy), "{word}: {failure:?}");
        assert_eq!(failure.code, word);
    }
}

#[test]
fn one_account_sends_both_and_each_form_goes_its_way() {
    let letter = Letter::new(bill(&small_bill()));
    let message = || letter.outgoing(invoice(LINK), None);
    let c = channel(&both());
    let url = |message: &Outgoing<'_>| match c.send(message, &[]) {
        SendStep::Call(call) => (call.url.clone(), call.body.unwrap()),
        other => panic!("{other:?}"),
    };
    let (address, (_, body)) = url(&message());
    assert_eq!(address, "https://api.exotel.com/v2/accounts/acme1/messages");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["whatsapp"]["messages"][0]["from"], "+918047109880");
    let (address, (_, body)) = url(&by_sms(message()));
    assert_eq!(
        address,
        "https://api.exotel.com/v1/Accounts/acme1/Sms/send.json"
    );
    assert!(String::from_utf8(body).unwrap().starts_with("From=ACMEST&"));

    let queued = reply(
        200,
        &json!({"SMSMessage": {"Sid": "s1", "Status": "queued"}}),
    );
    let done = c.send(&by_sms(message()), &[queued]);
    assert!(
        matches!(&done, SendStep::Sent { id, segments: Some(1) } if id == "s1"),
        "{done:?}"
    );
    let taken = reply(200, &fixture("exotel/resp_payment_200.json"));
    let done = c.send(&message(), &[taken]);
    assert!(
        matches!(&done, SendStep::Sent { segments: None, .. }),
        "{done:?}"
    );

    // What an account does not send is given up, not sent another way.
    for (settings, message, code) in [
        (whatsapp(), by_sms(message()), "no_sms"),
        (sms(), message(), "no_whatsapp"),
    ] {
        let step = channel(&settings).send(&message, &[]);
        assert!(
            matches!(&step, SendStep::Failed(f) if f.remedy == Remedy::GiveUp && f.code == code),
            "{step:?}"
        );
    }
}

#[test]
fn reports_of_both_kinds_find_their_order_and_their_attempt() {
    let c = channel(&both());
    let read = |body: &[u8]| {
        let verified = c.verify(sent_to_us(body, TOKEN)).unwrap();
        c.read(&verified).unwrap()
    };
    let dlr = json!({"whatsapp": {"messages": [{"callback_type": "dlr", "sid": "s", "exo_status_code": 30_013,
        "exo_detailed_status": "EX_INCAPABLE_RECIPIENT", "custom_data": "1:INV-1:invoice.1:1"}]}});
    for (signals, attempt, good) in [
        (read(dlr.to_string().as_bytes()), 1, false),
        (
            read(b"SmsSid=s2&Status=sent&DetailedStatusCode=20005&CustomField=1%3AINV-1%3Ainvoice.1%3A2"),
            2,
            true,
        ),
    ] {
        let [Signal::Message { tag, report, .. }] = &signals[..] else {
            panic!("{signals:?}")
        };
        assert_eq!(
            (tag.reference.as_str(), &tag.message, tag.attempt),
            ("INV-1", &MessageKey::Invoice(1), attempt)
        );
        assert_eq!(matches!(report, Report::Progress(_)), good);
    }
}

#[test]
fn a_customer_who_writes_is_heard_in_both_forms() {
    let ours = fixture("exotel/wh_incoming.json");
    let portal = fixture("exotel/wh_incoming_portal.json");
    let said = |mut hook: Value, text: &str, pointer: &str| {
        *hook.pointer_mut(pointer).unwrap() = json!(text);
        only(hook.to_string().as_bytes())
    };
    for (text, wish) in [
        ("Hello", None),
        ("STOP", Some(Wish::OptOut)),
        ("start", Some(Wish::OptIn)),
        ("కృపయా ఆపండి", None),
        ("దయచేసి ఆపండి 🙏", Some(Wish::OptOut)),
        // The shop's own.
        ("No bills, please!", Some(Wish::OptOut)),
        ("please stop the noise", None),
    ] {
        for kind in ["icm", "incoming_message"] {
            let mut hook = ours.clone();
            hook["whatsapp"]["messages"][0]["callback_type"] = json!(kind);
            let signal = said(hook, text, "/whatsapp/messages/0/content/text/body");
            let Signal::Inbound {
                phone,
                at: None,
                wish: w,
            } = signal
            else {
                panic!("{signal:?}")
            };
            assert_eq!((phone.e164(), w), ("+919876543210", wish));
        }
        let signal = said(portal.clone(), text, "/message/text/body");
        let Signal::Inbound { phone, at, wish: w } = signal else {
            panic!("{signal:?}")
        };
        assert_eq!((phone.e164(), w), ("+919876543210", wish));
        assert_eq!(at, Millis::from_rfc3339("2024-06-15T10:30:00Z"));
    }
    let mut timed = ours.clone();
    for (time, at) in [
        ("2024-01-15T10:30:05.000+05:30", Some(1_705_294_805)),
        ("1705294805", Some(1_705_294_805)),
        ("yesterday", None),
        ("0", None),
    ] {
        timed["whatsapp"]["messages"][0]["timestamp"] = json!(time);
        let signal = only(timed.to_string().as_bytes());
        assert!(
            matches!(&signal, Signal::Inbound { at: seen, .. } if *seen == at.map(Millis::from_seconds)),
            "{signal:?}"
        );
    }
    // Field report B09: Indian networks leave the country's code out.
    for from in ["09876543210", "9876543210", "+919876543210", "919876543210"] {
        let mut hook = ours.clone();
        hook["whatsapp"]["messages"][0]["from"] = json!(from);
        assert!(
            matches!(only(hook.to_string().as_bytes()), Signal::Inbound { phone, .. } if phone.e164() == "+919876543210"),
            "{from}"
        );
    }
    // A picture opens the window as well, and without a number nobody is known to have written.
    let mut picture = ours.clone();
    picture["whatsapp"]["messages"][0]["content"] =
        json!({"type": "image", "image": {"url": "https://x.example"}});
    assert!(matches!(
        only(picture.to_string().as_bytes()),
        Signal::Inbound { wish: None, .. }
    ));
    for from in [
        json!("IN.1234567890"),
        json!(""),
        Value::Null,
        json!("02212345678"),
    ] {
        let mut hook = ours.clone();
        hook["whatsapp"]["messages"][0]["from"] = from.clone();
        let signal = only(hook.to_string().as_bytes());
        assert!(matches!(signal, Signal::Ignored(_)), "{from}: {signal:?}");
    }
    assert!(matches!(
        only(b"{\"event\":\"incoming_message\"}"),
        Signal::Ignored(_)
    ));
}

#[test]
fn the_code_to_pay_heads_a_bill_without_a_header() {
    let qr = |letter: &Letter| {
        let out = Outgoing {
            qr: Some(QrCode::Link("https://shop.example/r/token/qr.png".into())),
            ..letter.outgoing(invoice(LINK), None)
        };
        let body = call(&whatsapp(), &out).body.unwrap().1;
        let body: Value = serde_json::from_slice(&body).unwrap();
        body.pointer("/whatsapp/messages/0/content/interactive/header/image/link")
            .cloned()
    };
    assert_eq!(
        qr(&Letter::new(bill(&small_bill()))),
        Some(json!("https://shop.example/r/token/qr.png"))
    );
    assert_eq!(
        qr(&Letter::new(bill(&full_bill()))),
        Some(json!("https://shop.example/header.png"))
    );
}

#[test]
fn a_document_above_a_bill_has_a_name() {
    let mut posted = small_bill();
    posted["header"] =
        json!({"type": "document", "document": {"link": "https://shop.example/inv/4711"}});
    let letter = Letter::new(bill(&posted));
    let body = call(&whatsapp(), &letter.outgoing(invoice(LINK), None))
        .body
        .unwrap()
        .1;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let header = body.pointer("/whatsapp/messages/0/content/interactive/header/document");
    assert_eq!(
        header.unwrap(),
        &json!({"link": "https://shop.example/inv/4711", "filename": format!("{}.pdf", letter.reference)})
    );
}

#[test]
fn a_native_bill_proves_itself_in_razorpay_s_notes() {
    let tenant = tenant(&whatsapp(), &native());
    let notes = |document: &Value, gateway: &'static str| {
        let letter = Letter::new(bill(document));
        let payment = Checkout::Configuration {
            gateway,
            name: "your_payment_config",
        };
        let c = chatbill_channels::open(&tenant).unwrap();
        let SendStep::Call(call) = c.send(&letter.outgoing(invoice(payment), None), &[]) else {
            panic!()
        };
        let body: Value = serde_json::from_slice(&call.body.unwrap().1).unwrap();
        body.pointer("/whatsapp/messages/0/content/interactive/action/parameters/payment_settings/0/payment_gateway")
            .unwrap()
            .clone()
    };
    let mut document = small_bill();
    document["notes"] = json!({"counter": "3", "chatbill_proof": "mine"});
    let gateway = notes(&document, "razorpay");
    let notes_of = &gateway["razorpay"]["notes"];
    assert_eq!(
        (&notes_of["counter"], &notes_of["chatbill_reference"]),
        (&json!("3"), &json!("BM345A-12"))
    );
    let letter = Letter::new(bill(&document));
    let proof = notes_of["chatbill_proof"].as_str().unwrap();
    let proofs = &tenant.payment.proofs;
    assert!(
        proofs
            .check(&letter.bill.reference, letter.bill.total, proof)
            .is_some()
    );
    assert!(gateway["razorpay"].get("receipt").is_none());
    // Meta takes 15 notes.
    let full: serde_json::Map<String, Value> =
        (0..15).map(|n| (format!("k{n}"), json!("v"))).collect();
    document["notes"] = Value::Object(full.clone());
    assert_eq!(
        notes(&document, "razorpay")["razorpay"]["notes"],
        json!(full)
    );
    assert!(notes(&small_bill(), "payu").get("payu").is_none());
}

#[test]
fn what_exotel_does_not_document_is_not_offered() {
    let c = channel(&whatsapp());
    let request = refund();
    let faults = c.check_refund(&request);
    assert_eq!(
        faults.iter().map(|f| f.code).collect::<Vec<_>>(),
        ["impossible"]
    );
    assert!(faults[0].detail.contains("gateway"));
    let unsupported = |step: &str, text: String| {
        assert!(text.contains("Unsupported"), "{step}: {text}");
    };
    unsupported("refund", format!("{:?}", c.refund(&request, &[])));
    unsupported("lookup", format!("{:?}", c.lookup_refund(&request, &[])));
    unsupported("account", format!("{:?}", c.check_account(&[])));
    assert_eq!(c.rate(), None);
}

fn sms_report(status: &str, code: &str) -> Signal {
    only(format!("SmsSid=s1&To=09876543210&Status={status}&SmsUnits=2&DetailedStatus=x&DetailedStatusCode={code}&DateSent=2024-01-15+10%3A30%3A02&CustomField=1%3AINV-1%3Ainvoice.1%3A1").as_bytes())
}

#[test]
fn sms_reports_are_forms() {
    for (status, code, progress) in [
        ("sent", "20005", Progress::Delivered),
        ("sent", "20006", Progress::Sent),
        ("sent", "", Progress::Sent),
        ("submitted", "", Progress::Sent),
    ] {
        let signal = sms_report(status, code);
        assert!(
            matches!(&signal, Signal::Message { report: Report::Progress(p), .. } if *p == progress),
            "{signal:?}"
        );
    }
    for status in ["failed", "failed_dnd", "failed-dnd"] {
        for (code, remedy) in SMS_CODES {
            let signal = sms_report(status, &code.to_string());
            let Signal::Message {
                report: Report::Failed(failure),
                ..
            } = signal
            else {
                panic!("{status}")
            };
            assert_eq!((failure.remedy, failure.code), (*remedy, code.to_string()));
        }
        let signal = sms_report(status, "");
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
    for status in ["queued", "sending"] {
        assert!(matches!(sms_report(status, ""), Signal::Ignored(_)));
    }
    assert!(matches!(
        sms_report("dreaming", ""),
        Signal::Noticed(Notice::DeliveryWord, _)
    ));
    assert!(matches!(only(b"SmsSid=s1&Status=sent"), Signal::Ignored(_)));
    // The details of an SMS are the same fields, in an object.
    let details = fixture("exotel/sms_details.json");
    assert_eq!(details["SMSMessage"]["DetailedStatusCode"], 20_005);
}

/// Field report B05 and its relatives: the newer pages' words, in any case and spelling.
#[test]
fn plain_words_end_a_message_at_either_kind() {
    let b05 = "SmsSid=abc1&To=09800000001&Status=undelivered&DetailedStatusCode=23010&DetailedStatus=NUMBER_INVALID&CustomField=1:BM345A-12:invoice.1:1";
    let Signal::Message {
        tag,
        report: Report::Failed(failure),
        ..
    } = only(b05.as_bytes())
    else {
        panic!()
    };
    assert_eq!(tag.to_string(), "1:BM345A-12:invoice.1:1");
    assert_eq!(
        (failure.remedy, failure.code.as_str()),
        (Remedy::GiveUp, "23010")
    );
    for word in [
        "failed",
        "FAILED",
        "undelivered",
        "Expired",
        "failed-expired",
        "failed_dnd",
        "rejected",
        "EX_MESSAGE_EXPIRED",
    ] {
        let by_whatsapp = dlr(&|m| {
            m["exo_detailed_status"] = json!(word);
            m.as_object_mut().unwrap().remove("exo_status_code");
        });
        for signal in [sms_report(word, ""), by_whatsapp] {
            assert!(
                matches!(&signal, Signal::Message { report: Report::Failed(f), .. } if f.remedy == Remedy::GiveUp),
                "{word}: {signal:?}"
            );
        }
    }
    for (word, progress) in [
        ("delivered", Progress::Delivered),
        ("Delivered", Progress::Delivered),
        ("SENT", Progress::Sent),
        ("read", Progress::Read),
    ] {
        let by_whatsapp = dlr(&|m| {
            m["exo_detailed_status"] = json!(word);
            m.as_object_mut().unwrap().remove("exo_status_code");
        });
        for signal in [sms_report(word, ""), by_whatsapp] {
            assert!(
                matches!(&signal, Signal::Message { report: Report::Progress(p), .. } if *p == progress),
                "{word}: {signal:?}"
            );
        }
    }
}

#[test]
fn a_known_failure_code_counts_whatever_the_word() {
    for word in ["sent", "dreaming", "delivered", ""] {
        for (code, remedy) in [
            ("23035", Remedy::Retry),
            ("24010", Remedy::Retry),
            ("23082", Remedy::Alert),
        ] {
            let signal = sms_report(word, code);
            assert!(
                matches!(&signal, Signal::Message { report: Report::Failed(f), .. } if f.remedy == remedy && f.code == code),
                "{word} {code}: {signal:?}"
            );
        }
        assert!(!matches!(
            sms_report(word, "99999"),
            Signal::Message {
                report: Report::Failed(_),
                ..
            }
        ));
    }
    let signal = dlr(&|m| {
        m["exo_detailed_status"] = json!("EX_NEW_WORD");
        m["exo_status_code"] = json!(30_018);
    });
    assert!(matches!(
        signal,
        Signal::Message {
            report: Report::Failed(_),
            ..
        }
    ));
}

/// Field report B08: a multipart form, with and without its content type; and a list of reports with one that is broken.
#[test]
fn reports_come_in_every_envelope() {
    let form = "--x\r\nContent-Disposition: form-data; name=\"SmsSid\"\r\n\r\nabc1\r\n--x\r\nContent-Disposition: form-data; name=\"Status\"\r\n\r\nfailed\r\n--x\r\nContent-Disposition: form-data; name=\"CustomField\"\r\n\r\n1:BM345A-12:invoice.1:1\r\n--x--\r\n";
    let c = channel(&whatsapp());
    let read = |kind: Option<&str>, body: &str| {
        let mut raw = sent_to_us(body.as_bytes(), TOKEN);
        raw.headers
            .extend(kind.map(|kind| ("content-type".to_owned(), kind.to_owned())));
        c.read(&c.verify(raw).unwrap())
    };
    let json =
        json!({"SmsSid": "abc1", "Status": "failed", "CustomField": "1:BM345A-12:invoice.1:1"});
    for (kind, body) in [
        (Some("multipart/form-data; boundary=x"), form.to_owned()),
        (None, form.to_owned()),
        (Some("application/json"), json.to_string()),
        (
            Some("application/x-www-form-urlencoded"),
            "SmsSid=abc1&Status=failed&CustomField=1:BM345A-12:invoice.1:1".to_owned(),
        ),
    ] {
        let signals = read(kind, &body).unwrap();
        assert!(
            matches!(
                &signals[..],
                [Signal::Message {
                    report: Report::Failed(_),
                    ..
                }]
            ),
            "{kind:?}: {signals:?}"
        );
    }
    let signals = read(None, &json!([json, {"a": 1}, null]).to_string()).unwrap();
    assert!(
        matches!(
            &signals[..],
            [
                Signal::Message { .. },
                Signal::Noticed(Notice::Unreadable, _),
                Signal::Noticed(Notice::Unreadable, _)
            ]
        ),
        "{signals:?}"
    );
    assert!(
        read(None, form.trim_end_matches("--\r\n")).is_err(),
        "cut off"
    );
}

#[test]
fn a_verification_is_answered_to_who_knows_the_token() {
    let c = channel(&whatsapp());
    let asked = |body: &str, token: &str| c.challenge(&sent_to_us(body.as_bytes(), token));
    let body = r#"{"type": "verification", "challenge": "random_challenge-1"}"#;
    assert_eq!(asked(body, TOKEN).as_deref(), Some("random_challenge-1"));
    assert_eq!(asked(body, "other"), None);
    for other in [
        r#"{"type": "message_status", "challenge": "x"}"#,
        r#"{"type": "verification"}"#,
        r#"{"type": "verification", "challenge": "two words"}"#,
        r#"{"type": "verification", "challenge": 7}"#,
    ] {
        assert_eq!(asked(other, TOKEN), None, "{other}");
    }
    let long = json!({"type": "verification", "challenge": "x".repeat(129)});
    assert_eq!(asked(&long.to_string(), TOKEN), None);
}

/// "WhatsApp Webhooks" and "Receive Messages" of the newer portal, with the sample bodies.
#[test]
fn a_button_counts_like_the_word_typed() {
    let data = |message: Value| json!({"type": "inbound_message", "data": {"message_sid": "inb_msg_003", "from": "+919876543210", "message": message}});
    let event = |message: Value| {
        let mut message = message;
        message["from"] = json!("+919876543210");
        json!({"event": "incoming_message", "message": message})
    };
    let traffic = |content: Value| json!({"whatsapp": {"messages": [{"callback_type": "incoming_message", "from": "+919876543210", "content": content}]}});
    let button = json!({"type": "button", "button": {"text": "STOP", "payload": "p"}});
    let payload = json!({"type": "button", "button": {"text": "No more bills", "payload": "STOP"}});
    let reply = json!({"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "stop", "title": "Leave me"}}});
    let row = json!({"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Stop", "description": "no more"}}});
    let flow = json!({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent", "response_json": "{\"flow_token\":\"START\",\"wish\":\"Stop\"}"}}});
    for message in [button, payload, reply, row, flow] {
        for hook in [
            data(message.clone()),
            event(message.clone()),
            traffic(message.clone()),
        ] {
            let signal = only(hook.to_string().as_bytes());
            assert!(
                matches!(
                    &signal,
                    Signal::Inbound {
                        wish: Some(Wish::OptOut),
                        ..
                    }
                ),
                "{hook}: {signal:?}"
            );
        }
    }
    let status = json!({"type": "message_status", "data": {"message_sid": "m", "status": "failed", "custom_data": "1:INV-1:paid:1",
        "errors": [{"code": 131_047, "title": "Re-engagement message", "detail": "More than 24 hours"}]}});
    assert!(matches!(
        only(status.to_string().as_bytes()),
        Signal::Message { report: Report::Failed(f), .. } if f.remedy == Remedy::UseTemplate
    ));
}

#[test]
fn a_payment_is_a_hint_in_each_of_its_shapes() {
    let flat = fixture("exotel/wh_payment_status_flat.json");
    let portal = json!({"type": "payment_status", "data": {
        "reference_id": "order_12345", "payment_id": "txn_xyz789", "status": "captured",
        "amount": {"value": 50_000, "offset": 100}, "transaction": {"id": "t"}, "from": "919876543210"}});
    let meta = json!({"statuses": [{"type": "payment", "status": "captured", "from": "919876543210",
        "payment": {"reference_id": "order_12345", "id": "txn_xyz789", "amount": {"value": 50_000, "offset": 100}}}]});
    for hook in [&flat, &portal, &meta] {
        let Signal::Payment {
            reference,
            report,
            trust: Trust::Hint,
        } = only(hook.to_string().as_bytes())
        else {
            panic!("{hook}")
        };
        assert_eq!(
            (
                reference.as_str(),
                report.payment_id.as_str(),
                report.status,
                report.amount.get()
            ),
            ("order_12345", "txn_xyz789", AttemptStatus::Captured, 50_000)
        );
    }
    for word in ["failed", "canceled", "refunded", "expired", "dreaming"] {
        let mut hook = flat.clone();
        hook["payment_status"] = json!(word);
        assert!(
            matches!(
                only(hook.to_string().as_bytes()),
                Signal::Payment {
                    trust: Trust::Hint,
                    ..
                }
            ),
            "{word}"
        );
    }
    let mut awaited = flat.clone();
    awaited["payment_status"] = json!("pending");
    assert!(matches!(
        only(awaited.to_string().as_bytes()),
        Signal::Ignored(_)
    ));
    let bare =
        json!({"event": "payment_status", "reference_id": "INV-1", "payment_status": "captured"});
    assert!(matches!(
        only(bare.to_string().as_bytes()),
        Signal::Payment { .. }
    ));
    let nameless =
        json!({"event": "payment_status", "reference_id": "../x", "payment_status": "captured"});
    assert!(matches!(
        only(nameless.to_string().as_bytes()),
        Signal::Ignored(_)
    ));
}

#[test]
fn only_who_knows_the_token_is_heard() {
    let c = channel(&whatsapp());
    let verify = |query: &[(&str, &str)]| {
        c.verify(RawWebhook {
            headers: vec![("token".into(), TOKEN.into())],
            query: query
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            body: b"{}".to_vec(),
        })
        .map(|_| ())
    };
    assert_eq!(verify(&[("token", TOKEN)]), Ok(()));
    assert_eq!(verify(&[("token", "")]), Err(Refused::Mismatch));
    assert_eq!(verify(&[("token", "other")]), Err(Refused::Mismatch));
    assert_eq!(
        verify(&[("token", TOKEN), ("token", TOKEN)]),
        Err(Refused::Missing)
    );
    assert_eq!(verify(&[]), Err(Refused::Missing));
}

#[test]
fn what_is_none_of_exotel_s_shapes_is_unreadable() {
    let c = channel(&whatsapp());
    for body in [&b""[..], b"<xml/>", b"[]", b"7", b"{}", b"{\"a\":1}"] {
        let verified = c.verify(sent_to_us(body, TOKEN)).unwrap();
        assert!(
            c.read(&verified).is_err(),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let odd =
        json!({"whatsapp": {"messages": [null, 7, {}, {"callback_type": "dlr"}], "statuses": []}});
    let read = signals(odd.to_string().as_bytes());
    assert_eq!(read.len(), 4);
    assert!(read.iter().all(|s| matches!(s, Signal::Ignored(_))));
    assert!(matches!(only(b"{\"whatsapp\":{}}"), Signal::Ignored(_)));
    assert!(c.challenge(&sent_to_us(b"", TOKEN)).is_none());
    assert_eq!(c.acknowledgement(), "ok");
}

#[test]
fn nothing_is_asked_and_pending_is_not_sent() {
    let c = channel(&whatsapp());
    let step = c.lookup_payment(&ReferenceId::parse("INV-1").unwrap(), &[]);
    assert!(
        matches!(step, Step::Done(Err(CallError::Unsupported(_)))),
        "{step:?}"
    );
    let letter = Letter::new(bill(&small_bill()));
    let step = c.send(&letter.outgoing(changed(Fulfilment::Pending), None), &[]);
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
fn a_regional_host_replaces_the_default() {
    let mut settings = sms();
    settings["base_url"] = json!("https://api.in.exotel.com");
    let letter = Letter::new(bill(&small_bill()));
    assert_eq!(
        call(&settings, &letter.outgoing(invoice(LINK), None)).url,
        "https://api.in.exotel.com/v1/Accounts/acme1/Sms/send.json"
    );
}

fn faults(settings: &Value, payment: &Value) -> Vec<(String, &'static str)> {
    match chatbill_channels::open(&tenant(settings, payment)) {
        Ok(_) => vec![],
        Err(faults) => faults.into_iter().map(|f| (f.pointer, f.code)).collect(),
    }
}

#[test]
fn faults_of_the_settings_point_into_the_document() {
    let mut bad = whatsapp();
    bad["templates"] = json!({"invoice": {"name": "a", "language": "en"}, "receipt": {"name": "b", "language": "en"}});
    bad["credentials"] = json!({"account_sid": "a/b", "api_key": "a:b", "callback_token": "", "order_details_form": "round", "extra": 1});
    let mut billdesk = native();
    billdesk["gateway"] = json!("billdesk");
    let seen = faults(&bad, &billdesk);
    for expected in [
        ("/channel/templates/invoice", "impossible"),
        ("/channel/templates/receipt", "impossible"),
        ("/payment/gateway", "impossible"),
        ("/channel/credentials/account_sid", "invalid"),
        ("/channel/credentials/api_key", "invalid"),
        ("/channel/credentials/api_token", "missing"),
        ("/channel/credentials/callback_token", "empty"),
        ("/channel/credentials/order_details_form", "invalid"),
        ("/channel/credentials/extra", "unknown_field"),
    ] {
        assert!(
            seen.iter().any(|(p, c)| (p.as_str(), *c) == expected),
            "{expected:?} in {seen:?}"
        );
    }
    let mut short = whatsapp();
    short["credentials"]["callback_token"] = json!("fifteen letters");
    assert_eq!(
        faults(&short, &linked()),
        [(
            "/channel/credentials/callback_token".to_owned(),
            "too_short"
        )]
    );
    let mut pictured = whatsapp();
    for (qr, flat, kind, pointer) in [
        ("link", false, "whatsapp", None),
        ("upload", false, "whatsapp", Some("/channel/qr_header")),
        (
            "link",
            true,
            "whatsapp",
            Some("/channel/credentials/order_details_form"),
        ),
        ("link", false, "sms", Some("/channel/qr_header")),
    ] {
        let form = if flat { "flat" } else { "nested" };
        pictured["credentials"] = sms()["credentials"].clone();
        pictured["credentials"]["order_details_form"] = json!(form);
        pictured["qr_header"] = json!(qr);
        pictured["kind"] = json!(kind);
        let seen = faults(&pictured, &linked());
        assert_eq!(
            seen.first().map(|(p, c)| (p.as_str(), *c)),
            pointer.map(|p| (p, "impossible")),
            "{qr} {flat} {kind}: {seen:?}"
        );
    }
    assert_eq!(faults(&both(), &linked()), []);
    let mut half = whatsapp();
    half["fallback_to_sms"] = json!(true);
    assert_eq!(
        faults(&half, &linked()),
        ["dlt_entity_id", "dlt_template_ids", "sender"]
            .map(|name| (format!("/channel/credentials/{name}"), "missing"))
    );
    let mut bare = whatsapp();
    bare["kind"] = json!("sms");
    let seen = faults(&bare, &linked());
    for pointer in [
        "/channel/credentials/dlt_entity_id",
        "/channel/credentials/dlt_template_ids",
    ] {
        assert!(seen.contains(&(pointer.to_owned(), "missing")), "{seen:?}");
    }
    // What an SMS needs may stand in a WhatsApp tenant's document, and is checked there too.
    let mut both = sms();
    both["kind"] = json!("whatsapp");
    assert_eq!(faults(&both, &linked()), []);
    both["credentials"]["dlt_template_ids"] = json!({"invoice": "1"});
    assert_eq!(
        faults(&both, &linked()),
        [(
            "/channel/credentials/dlt_template_ids/paid".to_owned(),
            "missing"
        )]
    );
}
