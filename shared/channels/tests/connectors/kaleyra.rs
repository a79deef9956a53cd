//! Kaleyra.io: WhatsApp and SMS.

use chatbill_domain::bill::Header;
use chatbill_domain::connector::{Channel, Notice, SendStep, Signal, Trust, Wish};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Obstacle, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::message::{
    Checkout, Content, Form, Fulfilment, MessageKey, Outgoing, Progress, Remedy, Report,
    SendFailure,
};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Found, PaymentMode, RefundReport, RefundRequest, RefundStatus, Speed,
};
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use serde_json::{Value, json};

use crate::support::{
    Letter, Probe, bill, fixture, full_bill, printed, refund, reply, small_bill, tenant,
};

const TOKEN: &str = "a secret of the callbacks";

fn whatsapp() -> Value {
    json!({
        "kind": "whatsapp", "provider": "kaleyra", "from": "+918045210677",
        "credentials": {"sid": "HXIN17787IN", "api_key": "key", "callback_token": TOKEN},
    })
}

fn sms() -> Value {
    json!({
        "kind": "sms", "provider": "kaleyra", "from": "+918045210677",
        "credentials": {"sid": "HXIN17787IN", "api_key": "key", "callback_token": TOKEN, "sender": "ACMEST",
                        "dlt_template_ids": {"invoice": "1107160000000000001", "paid": "1107160000000000002",
                                             "status": {"id": "1107160000000000004", "text": "ऑर्डर {#var#}: {#var#}",
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
    json!({"mode": "payment_gateway", "gateway": "razorpay", "configuration_name": "razor_pay_config", "credentials": {}})
}

fn linked() -> Value {
    json!({"mode": "payment_link", "gateway": "razorpay", "credentials": {}})
}

fn channel(settings: &Value) -> Box<dyn Channel> {
    let payment = if settings["kind"] == "sms" || settings["fallback_to_sms"] == true {
        linked()
    } else {
        native()
    };
    chatbill_channels::open(&tenant(settings, &payment)).unwrap()
}

fn profile(body: &Value, token: &str) -> RawWebhook {
    RawWebhook {
        headers: vec![("x-chatbill-token".into(), token.into())],
        query: vec![],
        body: body.to_string().into_bytes(),
    }
}

fn report() -> Value {
    json!({"event": "message", "message_id": "5d34d9e5:0", "tag": "1:INV-1:invoice.2:3", "status": "delivered", "code": "", "detail": ""})
}

pub(crate) fn probe() -> Probe {
    Probe {
        tenant: tenant(&whatsapp(), &native()),
        webhook: profile(&report(), TOKEN),
        tampered: profile(&report(), "another"),
        calls: &[
            "whatsapp_invoice",
            "whatsapp_invoice_profile",
            "whatsapp_invoice_link",
            "whatsapp_status",
            "whatsapp_receipt",
            "sms_invoice",
            "sms_status_unicode",
            "lookup_payment",
            "refund_payment",
            "sms_fallback",
        ],
    }
}

const LINK: Checkout<'static> = Checkout::Link {
    url: "https://rzp.io/i/nxrHnLJ",
};
const CONFIGURATION: Checkout<'static> = Checkout::Configuration {
    gateway: "razorpay",
    name: "razor_pay_config",
};

fn invoice(payment: Checkout<'_>) -> Content<'_> {
    Content::Invoice { payment }
}

fn changed(status: Fulfilment) -> Content<'static> {
    Content::Status {
        status,
        description: Some("Order status update"),
        text: "Hello user".into(),
    }
}

fn native_letter<'a>(letter: &'a Letter, content: Content<'a>) -> Outgoing<'a> {
    Outgoing {
        mode: PaymentMode::PaymentGateway,
        ..letter.outgoing(content, None)
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

/// The fields of a multipart form.
fn fields(call: &HttpCall) -> Vec<(String, String)> {
    let (kind, body) = call.body.clone().unwrap();
    let boundary = format!(
        "--{}",
        kind.strip_prefix("multipart/form-data; boundary=").unwrap()
    );
    let body = String::from_utf8(body).unwrap();
    body.split(&boundary)
        .filter_map(|part| {
            let (head, value) = part.strip_suffix("\r\n")?.split_once("\r\n\r\n")?;
            let (_, name) = head.split_once("name=\"")?;
            Some((name.trim_end_matches('"').to_owned(), value.to_owned()))
        })
        .collect()
}

fn field(call: &HttpCall, name: &str) -> Option<String> {
    let all = fields(call);
    all.into_iter().find(|(n, _)| n == name).map(|(_, v)| v)
}

#[test]
fn the_calls() {
    let full = Letter::new(bill(&full_bill()));
    let small = Letter::new(bill(&small_bill()));
    let show = |settings: &Value, message: &Outgoing<'_>| printed(&call(settings, message));
    insta::assert_json_snapshot!(
        "whatsapp_invoice",
        show(&whatsapp(), &native_letter(&full, invoice(CONFIGURATION)))
    );
    let mut profiled = whatsapp();
    profiled["credentials"]["callback_profile_id"] = json!("IN_b86b078e-046b-4565-892c-1");
    insta::assert_json_snapshot!(
        "whatsapp_invoice_profile",
        show(&profiled, &native_letter(&small, invoice(CONFIGURATION)))
    );
    insta::assert_json_snapshot!(
        "whatsapp_invoice_link",
        show(&whatsapp(), &small.outgoing(invoice(LINK), None))
    );
    insta::assert_json_snapshot!(
        "whatsapp_status",
        show(
            &whatsapp(),
            &native_letter(&small, changed(Fulfilment::PartiallyShipped))
        )
    );
    let receipt = Content::Receipt {
        text: "Thank you!".into(),
    };
    insta::assert_json_snapshot!(
        "whatsapp_receipt",
        show(&whatsapp(), &native_letter(&small, receipt))
    );
    insta::assert_json_snapshot!(
        "sms_invoice",
        show(&sms(), &full.outgoing(invoice(LINK), None))
    );
    let mut status = Letter::new(bill(&small_bill()));
    status.tag.message = MessageKey::Status(1);
    insta::assert_json_snapshot!(
        "sms_status_unicode",
        show(&sms(), &status.outgoing(changed(Fulfilment::Shipped), None))
    );
    let Step::Call(lookup) =
        channel(&whatsapp()).lookup_payment(&ReferenceId::parse("INV-1").unwrap(), &[])
    else {
        panic!()
    };
    insta::assert_json_snapshot!("lookup_payment", printed(&lookup));
    let paid = reply(200, &paid());
    let Step::Call(refund) = channel(&whatsapp()).refund(&refund(), &[paid]) else {
        panic!()
    };
    insta::assert_json_snapshot!("refund_payment", printed(&refund));
    insta::assert_json_snapshot!(
        "sms_fallback",
        show(&both(), &by_sms(small.outgoing(invoice(LINK), None)))
    );
}

#[test]
fn the_page_s_requests_are_produced() {
    let mut document = small_bill();
    document["reference_id"] = json!("Hello_2abcdxyabxyaab");
    document["body"] = json!("They`re good for your eye health too");
    document["footer"] = json!("Footer");
    document["receipt"] = json!("receipt-value");
    document["notes"] = json!({"key1": "value1"});
    let mut letter = Letter::new(bill(&document));
    letter.bill.header = Some(Header::Text("Bushel of carrots".into()));
    let bill_call = call(&whatsapp(), &native_letter(&letter, invoice(CONFIGURATION)));
    for (name, value) in [
        ("to", "919876543210"),
        ("type", "order_details"),
        ("channel", "WhatsApp"),
        ("from", "+918045210677"),
        ("body", "They`re good for your eye health too"),
        ("footer", "Footer"),
        ("header", "Bushel of carrots"),
        (
            "callback_url",
            "https://shop.example/webhooks/kaleyra/acme?token=a%20secret%20of%20the%20callbacks&tag=1%3AHello_2abcdxyabxyaab%3Ainvoice.1%3A1",
        ),
    ] {
        assert_eq!(field(&bill_call, name).as_deref(), Some(value), "{name}");
    }
    let action: Value = serde_json::from_str(&field(&bill_call, "action").unwrap()).unwrap();
    assert_eq!(action["name"], "review_and_pay");
    assert_eq!(
        action["parameters"]["payment_settings"],
        json!([{"type": "payment_gateway", "payment_gateway": {
            "type": "razorpay", "configuration_name": "razor_pay_config",
            "razorpay": {"receipt": "receipt-value", "notes": {"key1": "value1"}}}}])
    );

    let mut document = small_bill();
    document["reference_id"] = json!("Hello_2hyabfabkeabzahi");
    let letter = Letter::new(bill(&document));
    let status = call(
        &whatsapp(),
        &native_letter(&letter, changed(Fulfilment::PartiallyShipped)),
    );
    assert_eq!(field(&status, "type").as_deref(), Some("order_status"));
    assert_eq!(field(&status, "body").as_deref(), Some("Hello user"));
    assert_eq!(
        serde_json::from_str::<Value>(&field(&status, "action").unwrap()).unwrap(),
        json!({"name": "review_order", "parameters": {
            "reference_id": "Hello_2hyabfabkeabzahi",
            "order": {"status": "partially_shipped", "description": "Order status update"}}})
    );
    assert!(field(&status, "footer").is_none());
}

#[test]
fn outside_native_payments_everything_is_a_text_with_a_link() {
    let letter = Letter::new(bill(&small_bill()));
    let intent = Checkout::Intent {
        uri: "upi://pay?pa=a@b",
    };
    for (content, link) in [
        (invoice(LINK), "https://rzp.io/i/nxrHnLJ"),
        (invoice(intent), "https://shop.example/r/token"),
        (changed(Fulfilment::Shipped), "https://shop.example/r/token"),
    ] {
        let call = call(&whatsapp(), &letter.outgoing(content, None));
        assert_eq!(field(&call, "type").as_deref(), Some("text"));
        assert!(field(&call, "body").unwrap().ends_with(link));
        assert!(field(&call, "action").is_none());
    }
}

/// The page's payment status: captured.
fn paid() -> Value {
    fixture("kaleyra/resp_payment_status.json")
}

fn give_back(answers: &[Answer]) -> Result<RefundReport, CallError> {
    match channel(&whatsapp()).refund(&refund(), answers) {
        Step::Done(result) => result,
        Step::Call(call) => panic!("{call:?}"),
    }
}

#[test]
fn the_page_s_refund_is_produced() {
    let c = channel(&whatsapp());
    let Step::Call(asked) = c.refund(&refund(), &[]) else {
        panic!()
    };
    assert_eq!(asked.label, "kaleyra.lookup_payment");
    let Step::Call(call) = c.refund(&refund(), &[reply(200, &paid())]) else {
        panic!()
    };
    assert_eq!(
        call.url,
        "https://api.in.kaleyra.io/v1/HXIN17787IN/whatsapp/payment/refund"
    );
    let ours: Value = serde_json::from_slice(&call.body.unwrap().1).unwrap();
    let mut sample = fixture("kaleyra/req_refund.json");
    // Masked in the sample.
    sample["number"] = json!("+918045210677");
    assert_eq!(ours, sample);
    let mut normal = refund();
    normal.speed = Speed::Normal;
    let Step::Call(call) = c.refund(&normal, &[reply(200, &paid())]) else {
        panic!()
    };
    let ours: Value = serde_json::from_slice(&call.body.unwrap().1).unwrap();
    assert_eq!(ours["speed"], "normal");
}

/// The page's payment has only the gateway's order. Should its payment's id come along one day, the payment is still the same.
#[test]
fn a_payment_keeps_its_id() {
    let mut more = paid();
    more["data"]["payments"][0]["transactions"][0]["pg_transaction_id"] = json!("pay_N1");
    for document in [paid(), more] {
        let reference = refund().reference;
        let step = channel(&whatsapp()).lookup_payment(&reference, &[reply(200, &document)]);
        let Step::Done(Ok(found)) = step else {
            panic!("{step:?}")
        };
        let [report] = &found.reports[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (report.status, report.payment_id.as_str()),
            (AttemptStatus::Captured, "order_Nd6JAsbEscE2gY")
        );
    }
}

#[test]
fn no_refund_is_made_of_a_message_paid_twice() {
    let mut twice = paid();
    let mut second = twice["data"]["payments"][0].clone();
    second["transactions"][0]["id"] = json!("order_another");
    let payments = twice["data"]["payments"].as_array_mut().unwrap();
    payments.push(second);
    let result = give_back(&[reply(200, &twice)]);
    assert!(
        matches!(&result, Err(CallError::Rejected { code, .. }) if code == "paid_more_than_once"),
        "{result:?}"
    );
}

#[test]
fn only_the_payment_that_is_known_is_given_back() {
    let mut other = paid();
    other["data"]["payments"][0]["transactions"][0]["id"] = json!("order_another");
    let mut open = paid();
    open["data"]["payments"][0]["status"] = json!("PENDING");
    let nothing = json!({"code": "WA200", "data": {"payments": []}});
    for document in [other, open, nothing] {
        let result = give_back(&[reply(200, &document)]);
        assert!(
            matches!(&result, Err(CallError::Rejected { code, .. }) if code == "not_this_payment"),
            "{result:?}"
        );
    }
    // Nothing was sent yet, so all of it may be asked again.
    for answer in [Answer::Lost("x".into()), reply(503, &json!({}))] {
        let result = give_back(&[answer]);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_refund_s_answer_is_read() {
    let answered = |answer: Answer| give_back(&[reply(200, &paid()), answer]);
    let sample = json!({"id": "refund-id", "status": "pending", "speed_processed": "normal"});
    let expected = RefundReport {
        status: RefundStatus::Pending,
        id: Some("refund-id".into()),
        name: None,
        payment_id: "order_Nd6JAsbEscE2gY".into(),
        amount: refund().amount,
        speed: Some(Speed::Normal),
        bank_reference: None,
        error: None,
        at: None,
    };
    assert_eq!(answered(reply(200, &sample)), Ok(expected));
    for (word, status) in [
        ("completed", RefundStatus::Processed),
        ("SUCCESS", RefundStatus::Processed),
        ("failed", RefundStatus::Failed),
        ("dreaming", RefundStatus::Pending),
    ] {
        let said = json!({"id": "r", "status": word, "speed_processed": "INSTANT"});
        let report = answered(reply(202, &said)).unwrap();
        assert_eq!(
            (report.status, report.speed),
            (status, Some(Speed::Instant))
        );
    }
    let refused = fixture("kaleyra/err_WA400_refund.json");
    for status in [200, 202, 400] {
        let result = answered(reply(status, &refused));
        assert!(
            matches!(&result, Err(CallError::Rejected { code, reason }) if code == "WA400" && reason.starts_with("speed: valid refund speed")),
            "{result:?}"
        );
    }
    for answer in [
        reply(401, &json!({"code": "E401", "error": {}})),
        reply(200, &json!({"error": "no"})),
    ] {
        let result = answered(answer.clone());
        assert!(
            matches!(result, Err(CallError::Rejected { .. })),
            "{answer:?}: {result:?}"
        );
    }
    for answer in [
        Answer::NotSent("x".into()),
        reply(429, &json!({})),
        reply(200, &json!({"code": "WA429"})),
    ] {
        let result = answered(answer.clone());
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{answer:?}: {result:?}"
        );
    }
    // The gateway's words for a balance that does not cover it, as in field report B18: nothing was done, and another day it will be.
    let short = "Your account does not have enough balance to carry out the refund operation.";
    for answer in [
        reply(
            400,
            &json!({"code": "WA400", "message": short, "data": [], "error": {}}),
        ),
        reply(
            200,
            &json!({"code": "WA400", "error": {"refund": "insufficient balance"}}),
        ),
        reply(500, &json!({"code": "WA500", "message": short})),
    ] {
        let result = answered(answer.clone());
        assert!(
            matches!(
                result,
                Err(CallError::NotNow {
                    obstacle: Obstacle::InsufficientBalance,
                    ..
                })
            ),
            "{answer:?}: {result:?}"
        );
    }
    // Never repeated blindly: the money may be on its way.
    for answer in [
        reply(
            200,
            &json!({"id": "r", "status": "pending", "error": {"value": "insufficient balance"}}),
        ),
        Answer::Lost("x".into()),
        reply(500, &json!({"code": "E500"})),
        reply(200, &json!({"code": "WA500"})),
        reply(408, &json!({})),
        reply(200, &json!({"status": "pending"})),
        reply(
            200,
            &json!({"id": "r", "status": "pending", "error": {"value": "odd"}}),
        ),
        Answer::Reply(HttpReply {
            status: 502,
            retry_after: None,
            body: b"<html>".to_vec(),
        }),
    ] {
        let result = answered(answer.clone());
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{answer:?}: {result:?}"
        );
    }
}

#[test]
fn what_became_of_a_refund_is_not_guessed() {
    let c = channel(&whatsapp());
    let look = |answer: Answer| match c.lookup_refund(&refund(), &[answer]) {
        Step::Done(result) => result,
        Step::Call(call) => panic!("{call:?}"),
    };
    let Step::Call(call) = c.lookup_refund(&refund(), &[]) else {
        panic!()
    };
    assert_eq!(call.label, "kaleyra.lookup_payment");
    // As Meta's lookup tells of refunds, should Kaleyra pass them on.
    let mut told = paid();
    told["data"]["payments"][0]["transactions"][0]["refunds"] = json!([
        {"id": "refund-1", "amount": {"value": 100, "offset": 100}, "speed_processed": "instant", "status": "success"}]);
    let mut known = refund();
    known.gateway_refund_id = Some("refund-1".into());
    let Step::Done(Ok(Some(report))) = c.lookup_refund(&known, &[reply(200, &told)]) else {
        panic!()
    };
    assert_eq!(
        (report.status, report.amount.get(), report.speed),
        (RefundStatus::Processed, 100, Some(Speed::Instant))
    );
    // Also one of which only the request is known, if it can be no other; else it may be any of them, or none.
    let Ok(Some(report)) = look(reply(200, &told)) else {
        panic!()
    };
    assert_eq!(report.id.as_deref(), Some("refund-1"));
    let others: [fn(&mut RefundRequest); 3] = [
        |request| request.others = vec!["refund-1".into()],
        |request| request.before = request.amount,
        |request| request.amount = Paise::new(99).unwrap(),
    ];
    for change in others {
        let mut request = refund();
        change(&mut request);
        let result = c.lookup_refund(&request, &[reply(200, &told)]);
        assert!(
            matches!(result, Step::Done(Err(CallError::Unsupported(_)))),
            "{result:?}"
        );
    }
    let result = look(reply(200, &paid()));
    assert!(
        matches!(result, Err(CallError::Unsupported(_))),
        "{result:?}"
    );
    let result = look(Answer::Lost("x".into()));
    assert!(
        matches!(result, Err(CallError::Unavailable { .. })),
        "{result:?}"
    );
}

#[test]
fn only_native_payments_are_refunded_here() {
    let c = chatbill_channels::open(&tenant(&whatsapp(), &linked())).unwrap();
    assert_eq!(c.check_refund(&refund())[0].code, "impossible");
    let refunded = c.refund(&refund(), &[]);
    assert!(
        matches!(refunded, Step::Done(Err(CallError::Unsupported(_)))),
        "{refunded:?}"
    );
    let looked = c.lookup_refund(&refund(), &[]);
    assert!(
        matches!(looked, Step::Done(Err(CallError::Unsupported(_)))),
        "{looked:?}"
    );
    let native = channel(&whatsapp());
    assert_eq!(native.check_refund(&refund()), []);
    let account = native.check_account(&[]);
    assert!(
        matches!(account, Step::Done(Err(CallError::Unsupported(_)))),
        "{account:?}"
    );
    assert_eq!(native.rate(), None);
}

#[test]
fn one_account_sends_both_and_each_form_goes_its_way() {
    let letter = Letter::new(bill(&small_bill()));
    let message = || letter.outgoing(invoice(LINK), None);
    let c = channel(&both());
    let sent = |message: &Outgoing<'_>| match c.send(message, &[]) {
        SendStep::Call(call) => *call,
        other => panic!("{other:?}"),
    };
    let call = sent(&message());
    assert_eq!(call.label, "kaleyra.send_whatsapp");
    assert_eq!(field(&call, "from").as_deref(), Some("+918045210677"));
    let call = sent(&by_sms(message()));
    assert_eq!(call.label, "kaleyra.send_sms");
    let body = String::from_utf8(call.body.unwrap().1).unwrap();
    assert!(body.contains("&sender=ACMEST&type=TXN&"), "{body}");
    assert!(
        body.contains("&ref=1%3ABM345A-12%3Ainvoice.1%3A1&"),
        "{body}"
    );

    let accepted = || reply(202, &fixture("kaleyra/resp_order_details_202.json"));
    for (message, parts) in [(message(), None), (by_sms(message()), Some(1))] {
        let done = c.send(&message, &[accepted()]);
        assert!(
            matches!(&done, SendStep::Sent { segments, .. } if *segments == parts),
            "{done:?}"
        );
    }
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

fn step(settings: &Value, answer: Answer) -> SendStep {
    let letter = Letter::new(bill(&small_bill()));
    let message = formed(settings, letter.outgoing(invoice(LINK), None));
    channel(settings).send(&message, &[answer])
}

fn failed(answer: Answer) -> SendFailure {
    match step(&whatsapp(), answer) {
        SendStep::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accepted_message_gives_its_id_and_an_sms_its_parts() {
    let accepted = fixture("kaleyra/resp_order_details_202.json");
    let done = step(&whatsapp(), reply(202, &accepted));
    assert!(
        matches!(&done, SendStep::Sent { id, segments: None } if id == "5d34d9e5-d36c-4ad2-b6d5-f5a4abc460bc:0"),
        "{done:?}"
    );
    let done = step(&sms(), reply(202, &accepted));
    assert!(
        matches!(
            &done,
            SendStep::Sent {
                segments: Some(1),
                ..
            }
        ),
        "{done:?}"
    );
    let done = step(&whatsapp(), reply(200, &json!({"id": "a:0"})));
    assert!(
        matches!(&done, SendStep::Sent { id, .. } if id == "a:0"),
        "{done:?}"
    );
}

#[test]
fn the_error_envelope_counts_whatever_its_status() {
    let invalid = fixture("kaleyra/err_E413.json");
    for status in [200, 202, 400, 413, 500] {
        let failure = failed(reply(status, &invalid));
        assert_eq!(
            (failure.remedy, failure.code.as_str()),
            (Remedy::GiveUp, "E413"),
            "{status}"
        );
        assert_eq!(
            failure.detail,
            "body: For the type order_details, body field is mandatory and cannot be empty!"
        );
    }
    let other = |code: &str| json!({"code": code, "message": "to 919876543210 no", "data": [], "error": {}});
    for (status, remedy) in [
        (202, Remedy::GiveUp),
        (400, Remedy::GiveUp),
        (401, Remedy::Alert),
        (402, Remedy::Alert),
        (403, Remedy::Alert),
        (404, Remedy::Alert),
        (408, Remedy::Unknown),
        (429, Remedy::Throttled(10)),
        (500, Remedy::Unknown),
        (503, Remedy::Retry),
    ] {
        let failure = failed(reply(status, &other("E999")));
        assert_eq!(
            (failure.remedy, failure.detail.as_str()),
            (remedy, "to … no"),
            "{status}"
        );
    }
    for (answer, remedy) in [
        (Answer::Lost("timed out".into()), Remedy::Unknown),
        (Answer::NotSent("no route".into()), Remedy::Retry),
        (reply(502, &json!("<html>")), Remedy::Unknown),
        (reply(302, &json!({})), Remedy::Alert),
        (reply(202, &json!({})), Remedy::Unknown),
        (
            Answer::Reply(HttpReply {
                status: 429,
                retry_after: Some(9),
                body: vec![],
            }),
            Remedy::Throttled(9),
        ),
    ] {
        assert_eq!(failed(answer.clone()).remedy, remedy, "{answer:?}");
    }
    // Both at once: it may have gone out, so nothing may follow by SMS.
    let torn = json!({"id": "a", "data": [{"message_id": "a:0"}], "error": {"footer": "cut"}});
    let failure = failed(reply(202, &torn));
    assert_eq!(
        (failure.remedy, failure.detail.as_str()),
        (Remedy::Unknown, "footer: cut")
    );
    let named = failed(reply(400, &json!({"error": "no"})));
    assert_eq!(
        (named.code.as_str(), named.detail.as_str()),
        ("http_400", "no")
    );
}

fn look(answer: Answer) -> Result<Found, CallError> {
    let reference = ReferenceId::parse("Hiabqidaq_1abcdeabyzqabq").unwrap();
    match channel(&whatsapp()).lookup_payment(&reference, &[answer]) {
        Step::Done(result) => result,
        Step::Call(call) => panic!("{call:?}"),
    }
}

#[test]
fn a_lookup_reads_its_words_in_any_case() {
    let mut document = fixture("kaleyra/resp_payment_status.json");
    for (payment, transaction) in [("CAPTURED", "success"), ("captured", "SUCCESS")] {
        document["data"]["payments"][0]["status"] = json!(payment);
        document["data"]["payments"][0]["transactions"][0]["status"] = json!(transaction);
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
            (AttemptStatus::Captured, "order_Nd6JAsbEscE2gY", 100, "INR")
        );
    }
    document["data"]["payments"][0]["reference_id"] = json!("another");
    assert_eq!(look(reply(200, &document)), Ok(Found::default()));
}

#[test]
fn a_lookup_that_fails_says_how() {
    let refused = fixture("kaleyra/err_WA400_refund.json");
    for status in [200, 202, 400] {
        let result = look(reply(status, &refused));
        assert!(
            matches!(&result, Err(CallError::Rejected { code, .. }) if code == "WA400"),
            "{result:?}"
        );
    }
    let unsure = json!({"code": "WA200", "data": {"payments": [{"reference_id": "Hiabqidaq_1abcdeabyzqabq", "status": "CAPTURED"}]}});
    for answer in [
        Answer::Lost("x".into()),
        Answer::NotSent("x".into()),
        reply(200, &json!({"code": "WA500", "message": "x"})),
        reply(200, &json!({"code": "WA429", "message": "x"})),
        reply(503, &json!({})),
        reply(429, &json!({})),
        reply(200, &json!({"code": "WA200", "data": []})),
        reply(200, &unsure),
        Answer::Reply(HttpReply {
            status: 502,
            retry_after: None,
            body: b"<html>".to_vec(),
        }),
    ] {
        let result = look(answer.clone());
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{answer:?}: {result:?}"
        );
    }
    let c = chatbill_channels::open(&tenant(&whatsapp(), &linked())).unwrap();
    let step = c.lookup_payment(&ReferenceId::parse("INV-1").unwrap(), &[]);
    assert!(
        matches!(step, Step::Done(Err(CallError::Unsupported(_)))),
        "{step:?}"
    );
    let mut settings = whatsapp();
    settings["credentials"]["payment_number"] = json!("919876543210");
    let Step::Call(call) =
        channel(&settings).lookup_payment(&ReferenceId::parse("INV-1").unwrap(), &[])
    else {
        panic!()
    };
    assert!(call.url.contains("?number=919876543210&"), "{}", call.url);
}

fn signal(raw: RawWebhook) -> Signal {
    let c = channel(&whatsapp());
    let verified = c.verify(raw).unwrap();
    match &c.read(&verified).unwrap()[..] {
        [one] => one.clone(),
        other => panic!("{other:?}"),
    }
}

fn told(change: &dyn Fn(&mut Value)) -> Signal {
    let mut body = report();
    change(&mut body);
    signal(profile(&body, TOKEN))
}

#[test]
fn delivery_reports_find_their_order() {
    for (word, progress) in [
        ("sent", Progress::Sent),
        ("delivered", Progress::Delivered),
        ("read", Progress::Read),
        ("SUBMITTED", Progress::Sent),
        ("DELIVRD", Progress::Delivered),
        ("SENT - NO DLR", Progress::Sent),
        ("ENROUTE", Progress::Sent),
    ] {
        let Signal::Message { tag, report, .. } = told(&|r| r["status"] = json!(word)) else {
            panic!("{word}")
        };
        assert_eq!(
            (tag.reference.as_str(), &tag.message, tag.attempt),
            ("INV-1", &MessageKey::Invoice(2), 3)
        );
        assert_eq!(report, Report::Progress(progress), "{word}");
    }
    assert!(matches!(
        told(&|r| r["status"] = json!("dreaming")),
        Signal::Noticed(Notice::DeliveryWord, _)
    ));
    assert!(matches!(
        told(&|r| r["tag"] = json!("x")),
        Signal::Ignored(_)
    ));
    assert!(matches!(
        told(&|r| r["status"] = json!("")),
        Signal::Ignored(_)
    ));
}

#[test]
fn failures_are_classified() {
    for word in [
        "not-sent",
        "NOT-SENT",
        "failed",
        "Undelivered",
        "EXPIRED",
        "Rejected",
        "failed-expired",
        "failed_dnd",
    ] {
        let Signal::Message {
            report: Report::Failed(failure),
            ..
        } = told(&|r| r["status"] = json!(word))
        else {
            panic!("{word}")
        };
        assert_eq!(
            (failure.remedy, failure.code.as_str()),
            (Remedy::GiveUp, word)
        );
    }
    for (trace, remedy) in TRACES {
        for (status, code) in [("Undelivered", *trace), (*trace, "")] {
            let told = told(&|r| {
                r["status"] = json!(status);
                r["code"] = json!(code);
            });
            let Signal::Message {
                report: Report::Failed(failure),
                ..
            } = told
            else {
                panic!("{trace}")
            };
            assert_eq!((failure.remedy, failure.code.as_str()), (*remedy, *trace));
        }
    }
    let source = include_str!("../../src/kaleyra.rs");
    let (_, rules) = source.split_once("const TRACES").unwrap();
    let (rules, _) = rules.split_once("];").unwrap();
    assert_eq!(rules.matches("Remedy::").count(), TRACES.len());
}

#[test]
fn a_known_failure_code_counts_whatever_the_word() {
    for status in ["sent", "dreaming", "delivered"] {
        for (code, remedy) in [
            (json!("MOB-OFF"), Remedy::Retry),
            (json!("131026"), Remedy::GiveUp),
            (json!(131_016), Remedy::Retry),
        ] {
            let signal = told(&|r| {
                r["status"] = json!(status);
                r["code"] = code.clone();
            });
            assert!(
                matches!(&signal, Signal::Message { report: Report::Failed(f), .. } if f.remedy == remedy),
                "{status} {code}: {signal:?}"
            );
        }
    }
    // Short numbers may be somebody else's.
    let signal = told(&|r| {
        r["status"] = json!("sent");
        r["code"] = json!("1");
    });
    assert!(matches!(
        signal,
        Signal::Message {
            report: Report::Progress(_),
            ..
        }
    ));
}

/// Field report B24: values put into our text as they are.
#[test]
fn a_customer_s_quotes_break_nothing_and_forge_nothing() {
    let documents = |said: &str| {
        [
            format!(
                r#"{{"event": "inbound", "from": "919800000001", "type": "text", "body": "{said}", "created_at": "1780000000"}}"#
            ),
            format!(
                r#"{{"event": "inbound", "from": "919800000001", "type": "text", "created_at": "1780000000", "body": "{said}"}}"#
            ),
        ]
    };
    for (said, wish) in [
        ("the \"red\" one\nSTOP", None),
        ("STOP", Some(Wish::OptOut)),
        (
            "x\", \"status\": \"failed\", \"tag\": \"1:BM345A-12:invoice.1:1",
            None,
        ),
        (
            "x\", \"event\": \"message\", \"status\": \"failed\", \"tag\": \"1:BM345A-12:invoice.1:1",
            None,
        ),
        ("x\", \"from\": \"919811111111\", \"body\": \"STOP", None),
        (
            "x\"}{\"event\": \"payment\", \"reference_id\": \"BM345A-12\", \"status\": \"CAPTURED",
            None,
        ),
    ] {
        for document in documents(said) {
            let mut raw = profile(&json!({}), TOKEN);
            raw.body = document.clone().into_bytes();
            let Signal::Inbound {
                phone,
                at,
                wish: heard,
            } = signal(raw)
            else {
                panic!("{document}")
            };
            assert_eq!(
                (phone.e164(), at, heard),
                (
                    "+919800000001",
                    Some(Millis::from_seconds(1_780_000_000)),
                    wish
                ),
                "{document}"
            );
        }
    }
    // The page's own body names no event: whatever a customer puts into it, it stays a message of a customer, or nothing.
    for said in [
        "x\", \"event\": \"message\", \"status\": \"failed\", \"tag\": \"1:BM345A-12:invoice.1:1",
        "x\", \"event\": \"payment\", \"status\": \"captured\", \"reference_id\": \"BM345A-12",
    ] {
        let document = format!(
            r#"{{"body": "{said}", "from": "919800000001", "name": "x", "wanumber": "918045210677"}}"#
        );
        let mut raw = profile(&json!({}), TOKEN);
        raw.body = document.into_bytes();
        assert!(matches!(signal(raw), Signal::Inbound { .. }), "{said}");
    }
    // Nor does a body speak of another message than the address it came to.
    let mut raw = profile(
        &json!({"status": "delivered", "tag": "1:INV-2:paid:1"}),
        TOKEN,
    );
    raw.query
        .push(("tag".to_owned(), "1:INV-1:paid:1".to_owned()));
    assert!(
        matches!(signal(raw), Signal::Message { tag, .. } if tag.reference.as_str() == "INV-1")
    );
}

#[test]
fn reports_come_in_every_envelope() {
    let body = report();
    let form = "--b1\r\nContent-Disposition: form-data; name=\"status\"\r\n\r\ndelivered\r\n--b1\r\nContent-Disposition: form-data; name=\"tag\"\r\n\r\n1:INV-1:paid:1\r\n--b1--\r\n";
    let mut raw = profile(&body, TOKEN);
    raw.headers.retain(|(name, _)| name != "content-type");
    raw.headers.push((
        "content-type".to_owned(),
        "multipart/form-data; boundary=b1".to_owned(),
    ));
    raw.body = form.as_bytes().to_vec();
    assert!(matches!(signal(raw), Signal::Message { .. }));
    let c = channel(&whatsapp());
    let list = profile(&json!([body, {}, body]), TOKEN);
    let heard = c.read(&c.verify(list).unwrap()).unwrap();
    assert!(
        matches!(
            &heard[..],
            [
                Signal::Message { .. },
                Signal::Noticed(Notice::Unreadable, _),
                Signal::Message { .. }
            ]
        ),
        "{heard:?}"
    );
}

#[test]
fn a_button_counts_like_the_word_typed() {
    let hook = |more: Value| {
        let mut hook =
            json!({"event": "inbound", "from": "919876543210", "type": "button", "body": ""});
        hook.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        hook
    };
    for more in [
        json!({"body": "STOP"}),
        json!({"custom_response": "STOP"}),
        json!({"message": "{\"button\":{\"text\":\"No\",\"payload\":\"STOP\"}}"}),
        json!({"message": {"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Stop"}}}}),
        json!({"body": "{\"interactive\":{\"button_reply\":{\"id\":\"1\",\"title\":\"Stop\"}}}"}),
    ] {
        let seen = signal(profile(&hook(more.clone()), TOKEN));
        assert!(
            matches!(
                seen,
                Signal::Inbound {
                    wish: Some(Wish::OptOut),
                    ..
                }
            ),
            "{more}: {seen:?}"
        );
    }
}

const TRACES: &[(&str, Remedy)] = &[
    ("NO-CREDITS", Remedy::Alert),
    ("BLACKLIST", Remedy::GiveUp),
    ("CON-DND", Remedy::GiveUp),
    ("TEMPLATE-NOT-FOUND", Remedy::Alert),
    ("OPT-OUT", Remedy::GiveUp),
    ("INVALID-SUB", Remedy::GiveUp),
    ("MOB-OFF", Remedy::Retry),
    ("NOTALLOWED", Remedy::Alert),
    ("KYC-NOT-APPROVED", Remedy::Alert),
];

#[test]
fn a_customer_who_writes_is_heard() {
    let ours = json!({"event": "inbound", "from": "919876543210", "type": "text", "body": "Hello", "created_at": ""});
    // The page's own body, with every variable it names.
    let page = json!({"body": "Hello", "mime_type": "", "media_url": "", "from": "919876543210", "name": "John", "type": "text",
        "created_at": "", "reply_to": "", "wanumber": "918045210677", "mobile": "919876543210", "custom_response": "",
        "message": "", "contacts": "", "location": ""});
    for hook in [&ours, &page] {
        for (said, wish) in [
            ("Hello", None),
            ("Stop", Some(Wish::OptOut)),
            ("START", Some(Wish::OptIn)),
            ("बन्द करो 🙏", Some(Wish::OptOut)),
            ("bills again", Some(Wish::OptIn)),
        ] {
            for (created, at) in [
                ("", None),
                ("1705294805", Some(1_705_294_805)),
                ("2024-01-15 05:00:05+00:00", Some(1_705_294_805)),
                ("15 January", None),
            ] {
                let mut hook = hook.clone();
                hook["body"] = json!(said);
                hook["created_at"] = json!(created);
                let seen = signal(profile(&hook, TOKEN));
                let Signal::Inbound {
                    phone,
                    at: time,
                    wish: w,
                } = seen
                else {
                    panic!("{seen:?}")
                };
                assert_eq!((phone.e164(), w), ("+919876543210", wish));
                assert_eq!(time, at.map(Millis::from_seconds), "{created}");
            }
        }
        // Field report B09: Indian networks leave the country's code out.
        for from in ["09876543210", "9876543210", "+919876543210"] {
            let mut hook = hook.clone();
            hook["from"] = json!(from);
            assert!(
                matches!(signal(profile(&hook, TOKEN)), Signal::Inbound { phone, .. } if phone.e164() == "+919876543210"),
                "{from}"
            );
        }
        for from in ["", "IN.1", "nobody"] {
            let mut hook = hook.clone();
            hook["from"] = json!(from);
            hook["event"] = json!("inbound");
            assert!(matches!(signal(profile(&hook, TOKEN)), Signal::Ignored(_)));
        }
    }
}

#[test]
fn the_address_can_say_what_the_body_does_not() {
    let address = |query: &[(&str, &str)], body: &[u8]| RawWebhook {
        headers: vec![],
        query: query
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        body: body.to_vec(),
    };
    let ours = [("token", TOKEN), ("tag", "1:INV-1:paid:1")];
    for raw in [
        address(&ours, b"{\"id\":\"a:0\",\"status\":\"delivered\"}"),
        address(&ours, b"id=a%3A0&status=delivered"),
        address(
            &[ours[0], ours[1], ("id", "a:0"), ("status", "delivered")],
            b"",
        ),
    ] {
        let seen = signal(raw);
        assert!(
            matches!(&seen, Signal::Message { report: Report::Progress(Progress::Delivered), tag, .. } if tag.message == MessageKey::Paid),
            "{seen:?}"
        );
    }
    let c = channel(&whatsapp());
    for body in [&b"{}"[..], b"[]", b"<xml/>", b""] {
        let verified = c.verify(address(&ours, body)).unwrap();
        assert!(c.read(&verified).is_err());
    }
    assert!(c.challenge(&address(&ours, b"")).is_none());
    assert_eq!(c.acknowledgement(), "ok");
}

#[test]
fn a_payment_is_a_hint() {
    for (word, status) in [
        ("CAPTURED", AttemptStatus::Captured),
        ("captured", AttemptStatus::Captured),
        ("failed", AttemptStatus::Failed),
        ("PENDING", AttemptStatus::Pending),
    ] {
        let body = json!({"event": "payment", "reference_id": "INV-1", "status": word});
        let Signal::Payment {
            reference,
            report,
            trust: Trust::Hint,
        } = signal(profile(&body, TOKEN))
        else {
            panic!("{word}")
        };
        assert_eq!((reference.as_str(), report.status), ("INV-1", status));
    }
    let nameless = json!({"event": "payment", "status": "CAPTURED"});
    assert!(matches!(
        signal(profile(&nameless, TOKEN)),
        Signal::Ignored(_)
    ));
}

/// The bodies that `docs/kaleyra-callback.md` asks tenants to set up are the ones read here.
#[test]
fn the_document_s_bodies_are_read() {
    let document = include_str!("../../../../docs/kaleyra-callback.md");
    let bodies: Vec<Value> = document
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let [message, sms, payment, inbound] = &bodies[..] else {
        panic!("{bodies:?}")
    };
    for body in [message, sms] {
        let mut body = body.clone();
        body["status"] = json!("delivered");
        body["tag"] = json!("1:INV-1:paid:1");
        assert!(
            matches!(signal(profile(&body, TOKEN)), Signal::Message { .. }),
            "{body}"
        );
    }
    let mut inbound = inbound.clone();
    inbound["from"] = json!("919876543210");
    assert!(matches!(
        signal(profile(&inbound, TOKEN)),
        Signal::Inbound { at: None, .. }
    ));
    let mut payment = payment.clone();
    payment["reference_id"] = json!("INV-1");
    assert!(matches!(
        signal(profile(&payment, TOKEN)),
        Signal::Payment { .. }
    ));
    assert!(document.contains("x-chatbill-token"));
}

#[test]
fn the_secret_comes_in_the_header_or_in_the_address() {
    let c = channel(&whatsapp());
    let verify = |header: Option<&str>, query: Option<&str>| {
        c.verify(RawWebhook {
            headers: header
                .iter()
                .map(|v| ("x-chatbill-token".to_owned(), (*v).to_owned()))
                .collect(),
            query: query
                .iter()
                .map(|v| ("token".to_owned(), (*v).to_owned()))
                .collect(),
            body: vec![],
        })
        .map(|_| ())
    };
    assert_eq!(verify(Some(TOKEN), None), Ok(()));
    assert_eq!(verify(None, Some(TOKEN)), Ok(()));
    assert_eq!(verify(Some("x"), Some(TOKEN)), Err(Refused::Mismatch));
    assert_eq!(verify(None, Some("x")), Err(Refused::Mismatch));
    assert_eq!(verify(None, None), Err(Refused::Missing));
}

#[test]
fn faults_of_the_settings_point_into_the_document() {
    let faults = |settings: &Value, payment: &Value| -> Vec<(String, &'static str)> {
        match chatbill_channels::open(&tenant(settings, payment)) {
            Ok(_) => vec![],
            Err(faults) => faults.into_iter().map(|f| (f.pointer, f.code)).collect(),
        }
    };
    let mut bad = whatsapp();
    bad["templates"] = json!({"status": {"name": "a", "language": "en"}});
    bad["credentials"] = json!({"sid": "a/b", "api_key": "", "extra": 1});
    let mut zaakpay = native();
    zaakpay["gateway"] = json!("zaakpay");
    let seen = faults(&bad, &zaakpay);
    for expected in [
        ("/channel/templates/status", "impossible"),
        ("/payment/gateway", "impossible"),
        ("/channel/credentials/sid", "invalid"),
        ("/channel/credentials/api_key", "empty"),
        ("/channel/credentials/callback_token", "missing"),
        ("/channel/credentials/extra", "unknown_field"),
    ] {
        assert!(
            seen.iter().any(|(p, c)| (p.as_str(), *c) == expected),
            "{expected:?} in {seen:?}"
        );
    }
    let mut bare = whatsapp();
    bare["kind"] = json!("sms");
    assert_eq!(
        faults(&bare, &linked()),
        [(
            "/channel/credentials/dlt_template_ids".to_owned(),
            "missing"
        )]
    );
    let mut stored = sms();
    stored["kind"] = json!("whatsapp");
    assert_eq!(faults(&stored, &native()), []);
    assert_eq!(faults(&both(), &linked()), []);
    let mut half = whatsapp();
    half["fallback_to_sms"] = json!(true);
    assert_eq!(
        faults(&half, &linked()),
        ["dlt_template_ids", "sender"]
            .map(|name| (format!("/channel/credentials/{name}"), "missing"))
    );
    let mut profiled = both();
    profiled["credentials"]["callback_profile_id"] = json!("IN_1");
    assert_eq!(
        faults(&profiled, &linked()),
        [(
            "/channel/credentials/callback_profile_id".to_owned(),
            "impossible"
        )]
    );
    let mut short = whatsapp();
    short["credentials"]["callback_token"] = json!("fifteen letters");
    assert_eq!(
        faults(&short, &linked()),
        [(
            "/channel/credentials/callback_token".to_owned(),
            "too_short"
        )]
    );
    for (settings, qr) in [
        (whatsapp(), "link"),
        (whatsapp(), "upload"),
        (sms(), "link"),
    ] {
        let mut settings = settings;
        settings["qr_header"] = json!(qr);
        assert_eq!(
            faults(&settings, &linked()),
            [("/channel/qr_header".to_owned(), "impossible")]
        );
    }
    let mut regional = whatsapp();
    regional["base_url"] = json!("https://api.kaleyra.io");
    let letter = Letter::new(bill(&small_bill()));
    assert_eq!(
        call(&regional, &letter.outgoing(invoice(LINK), None)).url,
        "https://api.kaleyra.io/v1/HXIN17787IN/messages"
    );
    let pending =
        channel(&whatsapp()).send(&letter.outgoing(changed(Fulfilment::Pending), None), &[]);
    assert!(
        matches!(
            pending,
            SendStep::Failed(SendFailure {
                remedy: Remedy::GiveUp,
                ..
            })
        ),
        "{pending:?}"
    );
}
