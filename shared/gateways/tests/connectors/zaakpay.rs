//! Zaakpay.

use chatbill_domain::connector::{Gateway, Signal, Trust};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Obstacle, Step};
use chatbill_domain::ids::TenantId;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Found, LookupRequest, PayForm, PaymentMode, PaymentReport,
    PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::proof::BillProofs;
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use chatbill_testkit::builders::{
    NOW, bill_with, lookup_request, payment_request, reference, refund_request,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Probe, fixture, lost, printed, read, reply, tenant};

const SECRET: &str = "0678056d96914a8583fb518caf42828a";
const MERCHANT: &str = "fb2016ffd3a64b2994a6289dc2b671a4";
/// What BM345A-12 of acme is called at Zaakpay.
const SPELLED: &str = "5A12SA29TPIC532GRVUA";
const TXN: &str = "ZP5ccbbe5d0b30b";

fn payment(mode: &str, secrets: &[&str]) -> Value {
    json!({
        "mode": mode, "gateway": "zaakpay", "configuration_name": "shop-zaakpay",
        "credentials": {"merchant_identifier": MERCHANT, "secret_keys": secrets, "buyer_email": "bills@shop.example"},
    })
}

fn opened(merchant: &str, secrets: &[&str]) -> Box<dyn Gateway> {
    let mut settings = payment("payment_link", secrets);
    settings["credentials"]["merchant_identifier"] = json!(merchant);
    chatbill_gateways::open(&tenant(&settings)).unwrap()
}

fn gateway() -> Box<dyn Gateway> {
    opened(MERCHANT, &[SECRET])
}

fn native() -> Box<dyn Gateway> {
    chatbill_gateways::open(&tenant(&payment("payment_gateway", &[SECRET]))).unwrap()
}

/// The order number of another tenant's bill on the same account.
fn number_of(of: &str, bill: &str) -> String {
    let mut document = tenant(&payment("payment_link", &[SECRET]));
    document.payment.proofs = BillProofs::new(TenantId::parse(of).unwrap(), vec![]);
    let g = chatbill_gateways::open(&document).unwrap();
    g.order_id(&reference(bill)).into()
}

fn hex_hmac(secret: &str, text: &[u8]) -> String {
    hex::encode(hmac_sha256(secret.as_bytes(), text))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn raw(body: impl Into<Vec<u8>>) -> RawWebhook {
    RawWebhook {
        headers: vec![(
            "content-type".into(),
            "application/x-www-form-urlencoded".into(),
        )],
        query: vec![("realtime".into(), "true".into())],
        body: body.into(),
    }
}

/// A webhook as Zaakpay posts it.
fn signed(text: &str) -> RawWebhook {
    let checksum = hex_hmac(SECRET, text.as_bytes());
    raw(format!("txnData={}&checksum={checksum}", encoded(text)))
}

fn vectors() -> Vec<Value> {
    fixture("zaakpay/signatures.json")
        .as_array()
        .unwrap()
        .clone()
}

fn vector(id: &str) -> Value {
    vectors().into_iter().find(|v| v["id"] == id).unwrap()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

pub(crate) fn probe() -> Probe {
    let vector = vector("zaak-s01-vendor-doc");
    let (content, _) = text(&vector, "raw_body").split_once("&checksum=").unwrap();
    Probe {
        tenant: tenant(&payment("payment_link", &[SECRET])),
        webhook: raw(text(&vector, "raw_body")),
        unsigned: raw(content),
        calls: &[
            "check_txn",
            "check_refund",
            "refund",
            "refund_part",
            "cancel",
        ],
    }
}

fn request() -> PaymentRequest {
    PaymentRequest {
        order_id: SPELLED.to_owned(),
        ..payment_request(PaymentMode::PaymentLink)
    }
}

fn lookup() -> LookupRequest {
    LookupRequest {
        order_id: SPELLED.to_owned(),
        ..lookup_request(PaymentMode::PaymentLink, Some(SPELLED))
    }
}

fn refund() -> RefundRequest {
    RefundRequest {
        order_id: SPELLED.to_owned(),
        ..refund_request(PaymentMode::PaymentLink, TXN)
    }
}

fn full_refund() -> RefundRequest {
    RefundRequest {
        amount: Paise::new(85_000).unwrap(),
        ..refund()
    }
}

fn call<T: std::fmt::Debug>(step: Step<T>) -> HttpCall {
    match step {
        Step::Call(call) => *call,
        Step::Done(result) => panic!("no call but {result:?}"),
    }
}

/// Plays a conversation to its end; gives the labels of the calls made as well.
fn play<T: std::fmt::Debug>(
    answers: &[Answer],
    next: impl Fn(&[Answer]) -> Step<T>,
) -> (Vec<&'static str>, Result<T, CallError>) {
    let mut labels = Vec::new();
    for given in 0..=answers.len() {
        match next(&answers[..given]) {
            Step::Done(result) => {
                assert_eq!(given, answers.len(), "not all were wanted: {result:?}");
                return (labels, result);
            }
            Step::Call(call) => labels.push(call.label.strip_prefix("zaakpay.").unwrap()),
        }
    }
    panic!("after {labels:?} it wants another answer");
}

/// An order as "Check Transaction Status API" shows one, in another state.
fn order(code: &str, txn_status: &str) -> Value {
    let mut reply = fixture("zaakpay/reply_check_txn.json");
    let mut order = reply["orders"][0].take();
    order["orderDetail"]["orderId"] = json!(SPELLED);
    order["orderDetail"]["txnId"] = json!(TXN);
    order["orderDetail"]["amount"] = json!("85000");
    order["orderDetail"]["createDate"] = json!("2026-11-22 05:31:00");
    order["txnDate"] = json!("2026-11-22 05:32:00.5");
    order["responseCode"] = json!(code);
    order["responseDescription"] = json!("as the vendor says, to a@b");
    order["txnStatus"] = json!(txn_status);
    order.as_object_mut().unwrap().remove("refundDetails");
    order
}

fn orders(orders: &[Value]) -> Answer {
    reply(
        200,
        &json!({"success": true, "merchantIdentifier": MERCHANT, "orders": orders, "version": "5"}),
    )
}

fn with_refunds(code: &str, txn_status: &str, refunds: &Value) -> Answer {
    let mut order = order(code, txn_status);
    order["refundDetails"] = refunds.clone();
    orders(&[order])
}

/// No documented shape; codes are looked for beside the orders.
fn complaint(code: &str) -> Answer {
    reply(
        200,
        &json!({"success": false, "responseCode": code, "responseDescription": "no"}),
    )
}

fn update(code: &str) -> Answer {
    reply(
        200,
        &json!({
            "merchantIdentifier": MERCHANT, "orderDetail": {"orderId": SPELLED}, "responseCode": code,
            "responseDescription": format!("what {code} means"), "merchantRefId": refund().token,
        }),
    )
}

fn body(status: u16, body: &[u8]) -> Answer {
    Answer::Reply(HttpReply {
        status,
        retry_after: None,
        body: body.to_vec(),
    })
}

fn captured() -> PaymentReport {
    PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status: AttemptStatus::Captured,
        payment_id: TXN.to_owned(),
        amount: Paise::new(85_000).unwrap(),
        currency: "INR".to_owned(),
        method: Some("card".to_owned()),
        error: None,
        at: Some(NOW.plus_seconds(120)),
    }
}

#[test]
fn the_calls() {
    let g = gateway();
    insta::assert_json_snapshot!("check_txn", printed(&call(g.lookup(&lookup(), &[]))));
    insta::assert_json_snapshot!(
        "check_refund",
        printed(&call(g.lookup_refund(&refund(), &[])))
    );
    insta::assert_json_snapshot!(
        "refund",
        printed(&call(g.refund(&full_refund(), &[paid()])))
    );
    insta::assert_json_snapshot!(
        "refund_part",
        printed(&call(g.refund(&refund(), &[paid()])))
    );
    let authorized = orders(&[order("209", "2")]);
    insta::assert_json_snapshot!("cancel", printed(&call(g.cancel(&lookup(), &[authorized]))));
}

#[test]
fn what_is_sent_is_signed_as_it_is_sent() {
    let g = opened(MERCHANT, &["newer", SECRET]);
    for sent in [
        call(g.lookup(&lookup(), &[])),
        call(g.lookup_refund(&refund(), &[])),
        call(g.refund(&refund(), &[paid()])),
    ] {
        let form = String::from_utf8(sent.body.unwrap().1).unwrap();
        let (data, checksum) = form
            .strip_prefix("data=")
            .unwrap()
            .split_once("&checksum=")
            .unwrap();
        let data = decoded(data);
        assert_eq!(checksum, hex_hmac("newer", data.as_bytes()));
        let document: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(document["merchantIdentifier"], MERCHANT);
        assert_eq!(document["orderDetail"]["orderId"], SPELLED);
    }
}

#[test]
fn a_base_url_replaces_the_host_only() {
    let mut settings = payment("payment_link", &[SECRET]);
    settings["base_url"] = json!("https://zaakstaging.zaakpay.com/");
    let g = chatbill_gateways::open(&tenant(&settings)).unwrap();
    assert_eq!(
        call(g.lookup(&lookup(), &[])).url,
        "https://zaakstaging.zaakpay.com/checkTxn?v=5"
    );
    assert_eq!(
        pay_form(g.as_ref(), &request()).action,
        "https://zaakstaging.zaakpay.com/api/paymentTransact/V8"
    );
}

#[test]
fn faults_of_the_settings_point_into_the_document() {
    let faults = |payment: &Value| -> Vec<(String, &'static str)> {
        match chatbill_gateways::open(&read(payment).unwrap()) {
            Ok(_) => vec![],
            Err(faults) => faults.into_iter().map(|f| (f.pointer, f.code)).collect(),
        }
    };
    let changed = |mode: &str, name: &str, value: Value| {
        let mut settings = payment(mode, &[SECRET]);
        settings["credentials"][name] = value;
        faults(&settings)
    };
    let at = |name: &str, code| vec![(format!("/payment/credentials/{name}"), code)];
    assert_eq!(faults(&payment("payment_link", &[SECRET])), []);
    assert_eq!(faults(&payment("payment_gateway", &[SECRET])), []);
    assert_eq!(
        faults(&payment("upi_intent", &[SECRET])),
        [("/payment/mode".to_owned(), "impossible")]
    );
    // The checkout wants an address, a bill has none, and none is made up.
    assert_eq!(
        changed("payment_link", "buyer_email", Value::Null),
        at("buyer_email", "missing")
    );
    assert_eq!(changed("payment_gateway", "buyer_email", Value::Null), []);
    for bad in [
        "shop",
        "a@b",
        "a b@shop.example",
        "a@shop.example&mode=1",
        "@shop.example",
    ] {
        assert_eq!(
            changed("payment_link", "buyer_email", json!(bad)),
            at("buyer_email", "invalid"),
            "{bad}"
        );
    }
    assert_eq!(
        changed("payment_link", "merchant_identifier", json!("a&b")),
        at("merchant_identifier", "invalid")
    );
    assert_eq!(
        changed("payment_link", "secret_keys", json!([])),
        at("secret_keys", "invalid")
    );
    assert_eq!(
        changed("payment_link", "salt", json!("x")),
        at("salt", "unknown_field")
    );
}

#[test]
fn an_order_number_names_tenant_and_bill() {
    assert_eq!(number_of("acme", "BM345A-12"), SPELLED);
    let mut seen = std::collections::BTreeSet::new();
    for of in ["acme", "bazaar"] {
        for n in 0..1000 {
            for bill in [format!("bill-{n}"), n.to_string()] {
                let number = number_of(of, &bill);
                assert!(number.len() <= 20 && number.bytes().all(|b| b.is_ascii_alphanumeric()));
                assert_eq!(number, number_of(of, &bill));
                assert!(seen.insert(number));
            }
        }
    }
    // Spellings that differ in what Zaakpay would drop or fold stay apart.
    for (one, other) in [("a-b", "a_b"), ("a-b", "A-B"), ("a-b", "a--b")] {
        assert_ne!(number_of("acme", one), number_of("acme", other));
    }
}

/// Two merchants and a web shop under one merchant identifier.
#[test]
fn an_order_that_was_not_made_here_is_counted_and_no_more() {
    let txn = |id: &str| json!({"orderId": id, "amount": "85000", "pgTransId": TXN, "responseCode": "100"});
    let theirs = number_of("bazaar", "BM345A-12");
    let heard = signals(txns(&[
        txn(&theirs),
        txn("BM345A12"),
        txn("1001"),
        json!({"orderid": theirs, "amount": 85000, "txnDate": "NA"}),
        txn("no/name"),
        txn(SPELLED),
    ]));
    let [foreign @ .., Signal::Payment { reference, .. }] = heard.as_slice() else {
        panic!("{heard:?}");
    };
    assert_eq!(reference.as_str(), SPELLED);
    assert!(
        foreign.iter().all(|s| matches!(s, Signal::Foreign(_))),
        "{foreign:?}"
    );
    // Also when there is nothing else in it, when it was refunded, and when a browser brings it.
    let alone = signals(txns(&[txn(&theirs)]));
    assert!(matches!(alone[..], [Signal::Foreign(_)]));
    let back =
        json!({"merchantIdentifier": MERCHANT, "refunds": [{"orderId": theirs, "amount": 85000}]});
    let back = signals(signed(&back.to_string()));
    assert!(matches!(back[..], [Signal::Foreign(_)]));
    let text = format!("amount=85000&orderId={theirs}&responseCode=100&");
    let checksum = hex_hmac(SECRET, text.as_bytes());
    let returned = signals(raw(format!("{text}checksum={checksum}")));
    assert!(matches!(returned[..], [Signal::Foreign(_)]));
}

#[test]
fn a_bill_beyond_the_limits_is_refused_beforehand() {
    let g = gateway();
    let codes = |paise: i64, mode| -> Vec<&'static str> {
        let bill = bill_with(|b| {
            b["items"] = json!([{"retailer_id": "1", "name": "Rice", "quantity": 1, "amount": {"value": paise, "offset": 100}}]);
            b.as_object_mut().unwrap().remove("total_amount");
            b.as_object_mut().unwrap().remove("tax");
        });
        g.check(&bill, mode, 300)
            .into_iter()
            .map(|f| f.code)
            .collect()
    };
    for (paise, expected) in [
        (99, Some("too_small")),
        (100, None),
        (10_000_000, None),
        (10_000_001, Some("too_large")),
    ] {
        assert_eq!(
            codes(paise, PaymentMode::PaymentLink),
            Vec::from_iter(expected),
            "{paise}"
        );
    }
    assert!(codes(10_000_001, PaymentMode::PaymentGateway).is_empty());
}

fn started() -> Started {
    Started {
        id: SPELLED.to_owned(),
        link: "https://shop.example/r/token/pay".to_owned(),
        expires_at: request().expires_at,
        extra: None,
    }
}

fn pay_form(gateway: &dyn Gateway, request: &PaymentRequest) -> PayForm {
    gateway.pay_form(request, &started()).unwrap()
}

#[test]
fn our_own_page_is_the_link() {
    let g = gateway();
    let (calls, result) = play(&[], |a| g.start(&request(), a));
    assert!(calls.is_empty());
    assert_eq!(result, Ok(started()));
    let again = PaymentRequest {
        maybe_exists: true,
        ..request()
    };
    assert_eq!(play(&[], |a| g.start(&again, a)).1, Ok(started()));
}

#[test]
fn the_form_has_the_documented_fields_in_their_sequence() {
    let form = pay_form(gateway().as_ref(), &request());
    let text = "amount=85000&buyerEmail=bills@shop.example&currency=INR&merchantIdentifier=fb2016ffd3a64b2994a6289dc2b671a4\
        &mode=0&orderId=5A12SA29TPIC532GRVUA&productDescription=Acme Stores bill BM345A 12\
        &returnUrl=https://shop.example/r/token&";
    let mut fields: Vec<String> = form
        .fields
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    let checksum = fields.pop().unwrap();
    assert_eq!(fields.join("&") + "&", text);
    assert_eq!(
        checksum,
        format!("checksum={}", hex_hmac(SECRET, text.as_bytes()))
    );
    assert_eq!(
        form.action,
        "https://api.zaakpay.com/api/paymentTransact/V8"
    );
    assert!(!format!("{form:?}").contains(SECRET));

    // Nothing in a description can pass for another field, and one of other letters is left out.
    let odd = |description: &str| {
        let description = description.to_owned();
        let form = pay_form(
            gateway().as_ref(),
            &PaymentRequest {
                description,
                ..request()
            },
        );
        let found = form
            .fields
            .into_iter()
            .find(|(n, _)| n == "productDescription");
        found.map(|(_, value)| value)
    };
    assert_eq!(
        odd("A&B=1&responseCode=100").as_deref(),
        Some("A B 1 responseCode 100")
    );
    assert_eq!(odd("दुकान"), None);
    assert_eq!(odd(&"x ".repeat(200)).unwrap().len(), 99);

    let native_request = payment_request(PaymentMode::PaymentGateway);
    assert_eq!(native().pay_form(&native_request, &started()), None);
}

#[test]
fn every_vector_has_its_verdict() {
    let mut kinds = std::collections::BTreeMap::new();
    for vector in vectors() {
        let kind = text(&vector, "kind");
        let webhook = match kind {
            "webhook" | "redirect_response" => raw(text(&vector, "raw_body")),
            // What signs the text of `data` signs that of `txnData`.
            "json_api_checksum" => raw(format!(
                "txnData={}&checksum={}",
                encoded(text(&vector, "raw_body")),
                text(&vector, "signature")
            )),
            // In src/zaakpay.rs, because a form of ours has fewer fields.
            "transact_request_checksum" => continue,
            other => panic!("{other}"),
        };
        *kinds.entry(kind.to_owned()).or_insert(0) += 1;
        let verify = |secrets: &[&str]| {
            opened(MERCHANT, secrets)
                .verify(webhook.clone())
                .map(|_| ())
        };
        let secret = text(&vector, "secret");
        let expected = if vector["valid"] == true {
            Ok(())
        } else {
            Err(Refused::Mismatch)
        };
        let id = &vector["id"];
        assert_eq!(verify(&[secret]), expected, "{id}");
        assert_eq!(verify(&["newer", secret]), expected, "{id}");
        assert_eq!(verify(&["another"]), Err(Refused::Mismatch), "{id}");
        // A parameter called realtime is not signed and changes nothing.
        let mut late = webhook.clone();
        late.query = vec![("realtime".into(), "false".into())];
        assert_eq!(
            opened(MERCHANT, &[secret]).verify(late).map(|_| ()),
            expected
        );
        // The right signature is found where the vector has a wrong one.
        let mended = String::from_utf8(webhook.body.clone()).unwrap().replace(
            text(&vector, "signature"),
            text(&vector, "expected_signature"),
        );
        assert_eq!(
            opened(MERCHANT, &[secret]).verify(raw(mended)).map(|_| ()),
            Ok(())
        );
    }
    let seen: Vec<_> = kinds.into_iter().collect();
    let expected = [
        ("json_api_checksum", 1),
        ("redirect_response", 3),
        ("webhook", 3),
    ];
    assert_eq!(seen, expected.map(|(kind, n)| (kind.to_owned(), n)));
}

/// The vendor prints this checksum beside this text and this secret; it is an error of the page.
#[test]
fn the_printed_sample_of_the_status_call_does_not_verify() {
    let text = "{\"merchantIdentifier\":\"b19e8f103bce406cbd3476431b6b7973\",\"mode\":\"0\",\
        \"orderDetail\":{\"orderId\":\"ZPLive1602500556069\"},\"refundDetail\":{\"merchantRefId\":\"123456\"}}";
    let printed = "e0a8a4080fc661dbd23119309d9a45817bd01cc9264b1fde9b26a1dac7e1da50";
    let g = gateway();
    let verdict = g.verify(raw(format!("txnData={}&checksum={printed}", encoded(text))));
    assert!(matches!(verdict, Err(Refused::Mismatch)));
    assert!(g.verify(signed(text)).is_ok());
}

#[test]
fn one_changed_bit_anywhere_is_refused() {
    let form = |fields: &[(String, Vec<u8>)]| -> Vec<u8> {
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| {
                let value: String = value.iter().map(|b| format!("%{b:02X}")).collect();
                format!("{name}={value}")
            })
            .collect();
        pairs.join("&").into_bytes()
    };
    for id in ["zaak-s01-vendor-doc", "zaak-s02-vendor-doc", "zaak-s06"] {
        let vector = vector(id);
        let g = opened(MERCHANT, &[text(&vector, "secret")]);
        let fields: Vec<(String, Vec<u8>)> = text(&vector, "raw_body")
            .split('&')
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                (
                    name.to_owned(),
                    decoded(&value.replace('+', " ")).into_bytes(),
                )
            })
            .collect();
        assert!(g.verify(raw(form(&fields))).is_ok(), "{id}");
        for field in 0..fields.len() {
            for at in 0..fields[field].1.len() {
                for bit in [1, 32, 128] {
                    let mut changed = fields.clone();
                    changed[field].1[at] ^= bit;
                    let verdict = g.verify(raw(form(&changed)));
                    assert!(verdict.is_err(), "{id}: {} byte {at}", fields[field].0);
                }
            }
            // A field less, a field twice.
            let mut fewer = fields.clone();
            fewer.remove(field);
            assert!(g.verify(raw(form(&fewer))).is_err());
            let mut twice = fields.clone();
            twice.push(fields[field].clone());
            assert!(matches!(g.verify(raw(form(&twice))), Err(Refused::Missing)));
        }
    }
}

#[test]
fn json_is_taken_as_the_prose_says() {
    // The sample's order was not made here; inside WhatsApp none is.
    let g = native();
    let v = vector("zaak-s01-vendor-doc");
    let (data, checksum) = (text(&v, "txnData"), text(&v, "signature"));
    let quoted = Value::from(data).to_string();
    let good = [
        format!("{{\"txnData\":{data},\"checksum\":\"{checksum}\"}}"),
        format!(" {{ \"checksum\" : \"{checksum}\" , \"more\": 1.50, \"txnData\" : {data} }} \n"),
        format!("{{\"txnData\":{quoted},\"checksum\":\"{checksum}\"}}"),
    ];
    for body in good {
        let verified = g
            .verify(raw(body.clone()))
            .unwrap_or_else(|e| panic!("{e}: {body}"));
        assert!(matches!(
            g.read(&verified).unwrap()[..],
            [Signal::Payment {
                trust: Trust::Hint,
                ..
            }]
        ));
    }
    let unescaped = data.replace("\\/", "/");
    for (body, refused) in [
        (
            format!("{{\"txnData\":{unescaped},\"checksum\":\"{checksum}\"}}"),
            Refused::Mismatch,
        ),
        (
            format!("{{\"txnData\":{data},\"txnData\":{data},\"checksum\":\"{checksum}\"}}"),
            Refused::Missing,
        ),
        (
            format!("{{\"txnData\":{data},\"checksum\":\"{checksum}\"}}}}"),
            Refused::Missing,
        ),
        (
            format!("{{\"txnData\":{data},\"checksum\":\"{checksum}\""),
            Refused::Missing,
        ),
        (
            format!("{{\"txnData\":{data},\"checksum\":7}}"),
            Refused::Missing,
        ),
        (format!("{{\"txnData\":{data}}}"), Refused::Missing),
        ("{}".to_owned(), Refused::Missing),
        (String::new(), Refused::Missing),
    ] {
        assert_eq!(
            g.verify(raw(body.clone())).map(|_| ()),
            Err(refused),
            "{body}"
        );
    }
}

fn signals(webhook: RawWebhook) -> Vec<Signal> {
    signals_of(gateway().as_ref(), webhook)
}

/// Where WhatsApp makes the orders, every number may be ours.
fn native_signals(webhook: RawWebhook) -> Vec<Signal> {
    signals_of(native().as_ref(), webhook)
}

fn signals_of(g: &dyn Gateway, webhook: RawWebhook) -> Vec<Signal> {
    g.read(&g.verify(webhook).unwrap()).unwrap()
}

fn unreadable(webhook: RawWebhook) -> String {
    let g = gateway();
    g.read(&g.verify(webhook).unwrap()).unwrap_err().0
}

fn txns(txns: &[Value]) -> RawWebhook {
    signed(&json!({"merchantIdentifier": MERCHANT, "txns": txns}).to_string())
}

/// They are signed; but the id they tell is `pgTransId`, and a payment is known by the status call's `txnId`.
#[test]
fn the_printed_webhooks_are_read() {
    let report = PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        amount: Paise::new(850).unwrap(),
        at: Some(Millis::from_seconds(1_632_482_380)),
        ..captured()
    };
    assert_eq!(
        native_signals(raw(text(&vector("zaak-s01-vendor-doc"), "raw_body"))),
        [Signal::Payment {
            reference: reference("ZP43613736458877783333"),
            report,
            trust: Trust::Hint,
        }]
    );
    let real_time = native_signals(signed(&fixture("zaakpay/hook_real_time.json").to_string()));
    let [
        Signal::Payment {
            report,
            trust: Trust::Hint,
            ..
        },
    ] = &real_time[..]
    else {
        panic!("{real_time:?}");
    };
    assert_eq!(report.payment_id, "ZP5ccbb5a8b4959");

    // After reconciliation: signed, but of which transaction? Zaakpay is asked.
    let v = vector("zaak-s02-vendor-doc");
    let mut other = payment("payment_gateway", &[SECRET]);
    other["credentials"]["merchant_identifier"] = json!("b19e8f103bce406cbd3476431b6b7973");
    let g = chatbill_gateways::open(&tenant(&other)).unwrap();
    let read = g
        .read(&g.verify(raw(text(&v, "raw_body"))).unwrap())
        .unwrap();
    assert_eq!(
        read,
        [Signal::Payment {
            reference: reference("ZPLive1625124227854"),
            report: PaymentReport {
                paid_in_full: None,
                fee: None,
                offer: None,
                payment_id: "ZPLive1625124227854".to_owned(),
                amount: Paise::new(1000).unwrap(),
                method: None,
                at: Some(Millis::from_seconds(1_625_124_235)),
                ..captured()
            },
            trust: Trust::Hint,
        }]
    );
    assert_eq!(g.acknowledgement(), "SUCCESS");
    assert_eq!(g.challenge(&raw("")), None);
}

#[test]
fn what_comes_back_by_the_browser_is_a_hint() {
    let v = vector("zaak-s06");
    let settings = payment("payment_gateway", &[text(&v, "secret")]);
    let g = chatbill_gateways::open(&tenant(&settings)).unwrap();
    let read = g
        .read(&g.verify(raw(text(&v, "raw_body"))).unwrap())
        .unwrap();
    assert_eq!(
        read,
        [Signal::Payment {
            reference: reference("INV20250001x1"),
            report: PaymentReport {
                paid_in_full: None,
                fee: None,
                offer: None,
                payment_id: "ZP5b5ffe4b04f99".to_owned(),
                amount: Paise::new(50_000).unwrap(),
                method: Some("upi".to_owned()),
                at: Some(Millis::from_seconds(1_733_715_955)),
                ..captured()
            },
            trust: Trust::Hint,
        }]
    );
}

/// The customer sees our form and its checksum. Put together anew, its text has the names of an answer.
#[test]
fn our_own_form_cannot_be_turned_into_money() {
    let form = pay_form(gateway().as_ref(), &request());
    let text: String = form.fields[..8]
        .iter()
        .map(|(n, v)| format!("{n}={v}&"))
        .collect();
    let checksum = &form.fields[8].1;
    let (amount, rest) = text
        .strip_prefix("amount=")
        .unwrap()
        .split_once("&orderId=")
        .unwrap();
    let (order, rest) = rest.split_once("&productDescription=").unwrap();
    let description = rest.strip_suffix('&').unwrap();
    let parts = [
        ("amount", amount),
        ("orderId", order),
        ("productDescription", description),
    ];
    let pairs: Vec<String> = parts
        .iter()
        .map(|(n, v)| format!("{n}={}", encoded(v)))
        .collect();
    let forged = format!("{}&checksum={checksum}", pairs.join("&"));
    let g = gateway();
    assert!(matches!(
        g.verify(raw(forged.clone())),
        Err(Refused::Missing)
    ));
    assert!(matches!(
        g.verify(raw(format!("{forged}&responseCode=100"))),
        Err(Refused::Mismatch)
    ));
    let as_data = format!("txnData={}&checksum={checksum}", encoded(&text));
    assert!(unreadable(raw(as_data)).contains("not JSON"));
}

#[test]
fn several_transactions_are_each_read() {
    let txn = |id: &str, code: Value| json!({"orderId": id, "amount": "85000", "pgTransId": TXN, "responseCode": code});
    let read = native_signals(txns(&[
        txn("A1", json!("100")),
        txn("A2", json!("183")),
        txn("A3", json!(100)),
        txn("A4", json!("208")),
        txn("A5", json!("230")),
        txn("A6", json!("400")),
        json!({"orderid": "A7", "amount": 85000, "txnDate": "NA"}),
        json!({"orderId": "A8", "amount": "85000", "responseCode": "102"}),
        json!({"orderId": "A9", "amount": "850.00", "pgTransId": TXN, "responseCode": "100"}),
        json!({"orderId": "no/name", "amount": "1", "pgTransId": TXN, "responseCode": "100"}),
        json!("nothing"),
    ]));
    let seen: Vec<String> = read
        .iter()
        .map(|signal| match signal {
            Signal::Payment {
                reference,
                report,
                trust,
            } => {
                format!("{reference} {:?} {trust:?}", report.status)
            }
            other => format!("{other:?}"),
        })
        .collect();
    insta::assert_json_snapshot!("transactions", seen);
}

#[test]
fn in_native_checkout_an_order_number_proves_nothing() {
    let g = native();
    let read = g
        .read(
            &g.verify(raw(text(&vector("zaak-s01-vendor-doc"), "raw_body")))
                .unwrap(),
        )
        .unwrap();
    assert!(matches!(
        read[..],
        [Signal::Payment {
            trust: Trust::Hint,
            ..
        }]
    ));
}

#[test]
fn automatic_refunds_are_asked_about() {
    let data = |refunds: Value| {
        signed(&json!({"merchantIdentifier": MERCHANT, "txns": [], "refunds": refunds}).to_string())
    };
    let read = native_signals(data(json!([
        {"orderid": "A1", "amount": 85000},
        {"orderId": "A2", "amount": "5"},
        {"refund": "?"},
    ])));
    let [
        Signal::Refund {
            reference: one,
            report,
            trust: Trust::Hint,
        },
        Signal::Refund {
            trust: Trust::Hint, ..
        },
        Signal::Ignored(_),
    ] = &read[..]
    else {
        panic!("{read:?}");
    };
    assert_eq!((one.as_str(), report.amount.get()), ("A1", 85_000));
    assert_eq!(report.status, RefundStatus::Pending);
    assert!(matches!(signals(data(json!([])))[..], [Signal::Ignored(_)]));
}

#[test]
fn what_is_verified_but_broken_is_said_to_be() {
    for (text, why) in [
        ("", "not JSON"),
        ("[", "not JSON"),
        ("[]", "another merchant"),
        ("{}", "another merchant"),
        (
            "{\"merchantIdentifier\":\"b19e8f103bce406cbd3476431b6b7973\",\"txns\":[]}",
            "another merchant",
        ),
        (
            "{\"merchantIdentifier\":\"fb2016ffd3a64b2994a6289dc2b671a4\"}",
            "neither",
        ),
        (
            "{\"merchantIdentifier\":\"fb2016ffd3a64b2994a6289dc2b671a4\",\"txns\":[{}]}",
            "no transaction",
        ),
        (
            "{\"merchantIdentifier\":\"fb2016ffd3a64b2994a6289dc2b671a4\",\"txns\":[{\"orderId\":\"5A12SA29TPIC532GRVUA\",\"amount\":-1}]}",
            "no transaction",
        ),
    ] {
        let said = unreadable(signed(text));
        assert!(said.contains(why), "{text}: {said}");
    }
    let returned = format!("orderId={SPELLED}&responseCode=100&");
    let checksum = hex_hmac(SECRET, returned.as_bytes());
    assert!(unreadable(raw(format!("{returned}checksum={checksum}"))).contains("return"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = gateway().verify(raw(body));
    }

    #[test]
    fn no_signed_content_makes_it_panic(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        word in "[{}\\[\\]\":,a-z0-9. -]{0,60}",
        moment in "[0-9/:. -]{0,30}",
        number in any::<i64>(),
    ) {
        let g = gateway();
        let id = json!({"merchantIdentifier": MERCHANT, "txns": [{
            "orderId": word, "amount": number, "responseCode": number, "pgTransTime": moment, "pgTransId": word,
        }], "refunds": [{"orderid": word, "amount": moment}, word]}).to_string();
        for text in [body, word.into_bytes(), id.into_bytes()] {
            let spelled: String = text.iter().map(|b| format!("%{b:02x}")).collect();
            let checksum = hex_hmac(SECRET, &text);
            let verified = g.verify(raw(format!("txnData={spelled}&checksum={checksum}"))).unwrap();
            let _ = g.read(&verified);
        }
    }

    #[test]
    fn no_form_makes_it_panic(fields in proptest::collection::vec(("[a-zA-Z]{0,12}|orderId|responseCode|amount|checksum|txnData", "[ -~é]{0,20}"), 0..8)) {
        let pairs: Vec<String> = fields.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let g = gateway();
        if let Ok(verified) = g.verify(raw(pairs.join("&"))) {
            let _ = g.read(&verified);
        }
        let text: String = fields.iter().map(|(n, v)| format!("{n}={v}&")).collect();
        let _ = g.verify(raw(format!("{text}checksum={}", hex_hmac(SECRET, text.as_bytes()))));
    }

    #[test]
    fn no_reply_makes_it_panic(status in 100_u16..600, content in proptest::collection::vec(any::<u8>(), 0..200), code in "[0-9]{0,4}", txn in "[0-9]?") {
        let g = gateway();
        for answer in [body(status, &content), update(&code), orders(&[order(&code, &txn)]), complaint(&code)] {
            for answers in [vec![answer.clone()], vec![lost(), answer.clone()], vec![orders(&[order("209", "2")]), answer.clone()], vec![orders(&[order("209", "2")]), lost(), answer]] {
                let _ = g.lookup(&lookup(), &answers);
                let _ = g.cancel(&lookup(), &answers);
                let _ = g.refund(&refund(), &answers);
                let _ = g.lookup_refund(&refund(), &answers);
            }
        }
    }
}

fn found(answer: Answer) -> Result<Found, CallError> {
    let g = gateway();
    play(&[answer], |a| g.lookup(&lookup(), a)).1
}

fn status_of(code: &str, txn_status: &str) -> String {
    match found(orders(&[order(code, txn_status)])) {
        Ok(found) => found
            .reports
            .first()
            .map_or("nothing".to_owned(), |r| format!("{:?}", r.status)),
        Err(CallError::Rejected { code, .. }) => format!("rejected {code}"),
        Err(CallError::Unavailable { .. }) => "ask again".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn a_paid_order_is_found() {
    let all = found(orders(&[order("228", "0")])).unwrap();
    assert_eq!(
        all,
        Found {
            reports: vec![captured()],
            closed: None,
            refunds: vec![]
        }
    );
    // Another amount is passed on, so that the order is held.
    let mut other = order("228", "0");
    other["orderDetail"]["amount"] = json!(84_999);
    assert_eq!(
        found(orders(&[other])).unwrap().reports[0].amount.get(),
        84_999
    );
    // First declined, then paid: both are told.
    let mut declined = order("400", "1");
    declined["orderDetail"]["txnId"] = json!("ZP1");
    let both = found(orders(&[declined, order("100", "0")]))
        .unwrap()
        .reports;
    assert_eq!(both[0].status, AttemptStatus::Failed);
    assert_eq!(both[0].error.as_deref(), Some("400"));
    assert_eq!(both[1], captured());
}

#[test]
fn every_documented_code_means_something() {
    let mut table = serde_json::Map::new();
    for code in [
        100, 103, 110, 111, 129, 155, 156, 180, 182, 189, 190, 191, 205, 206, 207, 208, 209, 210,
        211, 212, 213, 223, 228, 230, 231, 232, 233, 234, 236, 237, 238, 239, 240, 241, 245, 246,
        247, 248, 249, 251, 252, 253, 254, 255, 256, 400, 999,
    ] {
        let code = code.to_string();
        let seen: Vec<String> = ["", "0", "1", "2"]
            .iter()
            .map(|txn| status_of(&code, txn))
            .collect();
        table.insert(code, json!(seen.join(" | ")));
    }
    insta::assert_json_snapshot!("codes", table);
    for (txn_status, expected) in [
        ("0", "Captured"),
        ("1", "Failed"),
        ("2", "Pending"),
        ("3", "Captured"),
        ("4", "Captured"),
        ("5", "Captured"),
        ("6", "Captured"),
        ("7", "Captured"),
        ("8", "Captured"),
        ("9", "ask again"),
    ] {
        assert_eq!(status_of("", txn_status), expected, "{txn_status}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_no_answer() {
    let mut foreign = order("228", "0");
    foreign["orderDetail"]["orderId"] = json!("A1");
    let mut nameless = order("228", "0");
    nameless["orderDetail"]["txnId"] = json!("NA");
    let mut priceless = order("228", "0");
    priceless["orderDetail"]["amount"] = json!("850.00");
    for answer in [
        lost(),
        Answer::NotSent("refused".into()),
        body(200, b"<zaakpay_response/>"),
        body(200, b"[]"),
        body(200, b"{}"),
        body(500, b""),
        body(503, b"{}"),
        body(408, b""),
        body(429, b""),
        orders(&[foreign]),
        orders(&[nameless]),
        orders(&[priceless]),
        reply(200, &json!({"merchantIdentifier": "another", "orders": []})),
    ] {
        let result = found(answer.clone());
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{answer:?}: {result:?}"
        );
    }
    let slow = Answer::Reply(HttpReply {
        status: 429,
        retry_after: Some(7),
        body: vec![],
    });
    assert!(matches!(
        found(slow),
        Err(CallError::Unavailable {
            retry_after: Some(7),
            ..
        })
    ));
    for (answer, expected) in [
        (complaint("180"), "gateway_credentials"),
        (complaint("111"), "gateway_credentials"),
        (body(403, b""), "gateway_credentials"),
        (complaint("191"), "191"),
        (body(404, b""), "http_404"),
    ] {
        let result = found(answer);
        assert!(
            matches!(&result, Err(CallError::Rejected { code, .. }) if code == expected),
            "{result:?}"
        );
    }
    // An attempt that led to nothing and has no id is not worth a word.
    let mut early = order("206", "2");
    early["orderDetail"]
        .as_object_mut()
        .unwrap()
        .remove("txnId");
    for answer in [
        orders(&[early]),
        orders(&[]),
        complaint("205"),
        complaint("190"),
    ] {
        assert_eq!(found(answer), Ok(Found::default()));
    }
}

#[test]
fn refunds_are_found_along_with_the_payment() {
    let answer = with_refunds(
        "245",
        "4",
        &json!([{"amount": "100", "arn": "7401", "merchantRefId": "r1"}, {"amount": 200}, {"amount": "x"}]),
    );
    let all = found(answer).unwrap();
    // `txnDate` is the refund's by now.
    assert_eq!(
        all.reports,
        [PaymentReport {
            paid_in_full: None,
            fee: None,
            offer: None,
            at: Some(NOW.plus_seconds(60)),
            ..captured()
        }]
    );
    let report = RefundReport {
        status: RefundStatus::Pending,
        id: None,
        name: Some("r1".to_owned()),
        payment_id: TXN.to_owned(),
        amount: Paise::new(100).unwrap(),
        speed: None,
        bank_reference: Some("7401".to_owned()),
        error: None,
        at: None,
    };
    // The one without a name may be any, ours or the dashboard's, so it is not told of.
    assert_eq!(all.refunds, [report]);
    for code in ["231", "236", "251", "252", "253", "254", "255", "256"] {
        let named = json!([{"amount": "100", "merchantRefId": "r1"}]);
        let done = found(with_refunds(code, "4", &named)).unwrap();
        assert_eq!(done.refunds[0].status, RefundStatus::Processed, "{code}");
    }
}

#[test]
fn canceling_asks_first() {
    let g = gateway();
    let cancel = |answers: &[Answer]| play(answers, |a| g.cancel(&lookup(), a));
    let state = |code: &str| orders(&[order(code, "")]);
    assert_eq!(
        cancel(&[state("228")]),
        (vec!["check_txn"], Ok(Canceled::AlreadyPaid))
    );
    for open in [complaint("205"), state("208"), state("213"), state("400")] {
        assert_eq!(cancel(&[open]), (vec!["check_txn"], Ok(Canceled::Closed)));
    }
    assert!(matches!(
        cancel(&[lost()]).1,
        Err(CallError::Unavailable { .. })
    ));
    assert!(matches!(
        cancel(&[complaint("180")]).1,
        Err(CallError::Rejected { .. })
    ));

    // What a bank has authorised is canceled there, or looked at again.
    assert_eq!(
        cancel(&[state("209"), update("243")]),
        (vec!["check_txn", "cancel"], Ok(Canceled::Closed))
    );
    for doubt in [
        update("203"),
        update("197"),
        lost(),
        body(500, b""),
        Answer::NotSent("no route".into()),
    ] {
        let then = |answer: Answer| cancel(&[state("209"), doubt.clone(), answer]);
        assert_eq!(
            then(state("213")),
            (
                vec!["check_txn", "cancel", "check_txn"],
                Ok(Canceled::Closed)
            )
        );
        assert_eq!(then(state("228")).1, Ok(Canceled::AlreadyPaid));
        assert!(matches!(
            then(state("209")).1,
            Err(CallError::Unavailable { .. })
        ));
        assert!(matches!(then(lost()).1, Err(CallError::Unavailable { .. })));
    }
}

#[test]
fn what_zaakpay_would_refuse_of_a_refund_is_known() {
    let g = gateway();
    let codes = |request: &RefundRequest| -> Vec<&'static str> {
        g.check_refund(request)
            .into_iter()
            .map(|f| f.code)
            .collect()
    };
    assert!(codes(&refund()).is_empty());
    let instant = RefundRequest {
        speed: Speed::Instant,
        ..refund()
    };
    assert_eq!(codes(&instant), ["impossible"]);
    let aged = |days: i64| RefundRequest {
        now: NOW.plus_seconds(days * 86_400),
        ..refund()
    };
    assert!(codes(&aged(184)).is_empty());
    assert_eq!(codes(&aged(185)), ["too_old"]);
}

fn ours(status: RefundStatus) -> RefundReport {
    RefundReport {
        status,
        id: None,
        name: Some(refund().token),
        payment_id: TXN.to_owned(),
        amount: refund().amount,
        speed: None,
        bank_reference: Some("7401".to_owned()),
        error: None,
        at: None,
    }
}

fn taken() -> RefundReport {
    RefundReport {
        speed: Some(Speed::Normal),
        bank_reference: None,
        ..ours(RefundStatus::Pending)
    }
}

/// The order's money is the payment that is meant.
fn paid() -> Answer {
    orders(&[order("228", "0")])
}

#[test]
fn nothing_goes_back_but_of_the_payment_that_is_meant() {
    let g = gateway();
    let give = |answer: Answer| play(&[answer], |a| g.refund(&refund(), a));
    let mut another = order("228", "0");
    another["orderDetail"]["txnId"] = json!("ZP0000000000001");
    for answer in [
        orders(&[another.clone()]),
        // Twice paid under one number: which of them updateTxn would take is not said.
        orders(&[order("228", "0"), another]),
        orders(&[order("208", "2")]),
        orders(&[order("400", "1")]),
        orders(&[]),
        complaint("205"),
    ] {
        let (calls, result) = give(answer);
        assert_eq!(calls, ["check_txn"]);
        assert!(
            matches!(&result, Err(CallError::Rejected { code, .. }) if code == "not_this_payment"),
            "{result:?}"
        );
    }
    // Asking is harmless.
    for answer in [lost(), Answer::NotSent("no route".into()), body(500, b"")] {
        let (_, result) = give(answer);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    // Also of one that was refunded in part; and what is there by name is not asked for again.
    let refunded = |name: &str| {
        with_refunds(
            "245",
            "4",
            &json!([{"amount": "10000", "arn": "7401", "merchantRefId": name}]),
        )
    };
    assert_eq!(
        play(&[refunded("x"), update("245")], |a| g.refund(&refund(), a)),
        (vec!["check_txn", "refund"], Ok(taken()))
    );
    assert_eq!(
        give(refunded(&refund().token)),
        (
            vec!["check_txn"],
            Ok(RefundReport {
                speed: None,
                ..ours(RefundStatus::Pending)
            })
        )
    );
}

#[test]
fn refunding() {
    let g = gateway();
    let give = |answers: &[Answer]| {
        let all = [&[paid()], answers].concat();
        let (calls, result) = play(&all, |a| g.refund(&refund(), a));
        assert_eq!(calls[0], "check_txn");
        (calls[1..].to_vec(), result)
    };
    for code in ["230", "245"] {
        assert_eq!(give(&[update(code)]), (vec!["refund"], Ok(taken())));
    }
    for (code, expected) in [
        ("180", "gateway_credentials"),
        ("184", "184"),
        ("185", "185"),
        ("186", "186"),
        ("187", "187"),
        ("189", "189"),
        ("190", "190"),
        ("201", "201"),
        ("846", "846"),
    ] {
        let (calls, result) = give(&[update(code)]);
        assert_eq!(calls, ["refund"]);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == expected),
            "{result:?}"
        );
    }
    // Nothing happened: later.
    for answer in [
        update("844"),
        Answer::NotSent("no route".into()),
        body(429, b""),
    ] {
        let (calls, result) = give(&[answer]);
        assert_eq!(calls, ["refund"]);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    let sample = fixture("zaakpay/reply_update_txn.json");
    let request = RefundRequest {
        order_id: "ZPLive1632373152375".to_owned(),
        gateway_id: None,
        ..refund()
    };
    let mut shown = order("228", "0");
    shown["orderDetail"]["orderId"] = json!(request.order_id);
    let answers = [orders(&[shown]), reply(200, &sample)];
    let (_, result) = play(&answers, |a| g.refund(&request, a));
    assert_eq!(result, Ok(taken()));
}

#[test]
fn a_short_balance_at_zaakpay_is_not_now() {
    let g = gateway();
    let give = |answers: &[Answer]| {
        let all = [&[paid()], answers].concat();
        let (calls, result) = play(&all, |a| g.refund(&refund(), a));
        (calls.len(), result)
    };
    let short = |result: &Result<RefundReport, CallError>| {
        let obstacle = Obstacle::InsufficientBalance;
        assert!(
            matches!(result, Err(CallError::NotNow { obstacle: o, .. }) if *o == obstacle),
            "{result:?}"
        );
    };
    // "Not enough unsettled funds available with MobiKwik."
    let (calls, result) = give(&[update("843")]);
    assert_eq!(calls, 2);
    short(&result);
    // Another code with such words: looked for first.
    let words = reply(
        200,
        &json!({"responseCode": "860", "responseDescription": "Insufficient balance with merchant"}),
    );
    let absent = orders(&[order("228", "0")]);
    let (calls, result) = give(&[words.clone(), absent]);
    assert_eq!(calls, 3);
    short(&result);
    let shown = with_refunds(
        "245",
        "4",
        &json!([{"amount": "10000", "arn": "7401", "merchantRefId": refund().token}]),
    );
    assert_eq!(
        give(&[words.clone(), shown]).1,
        Ok(ours(RefundStatus::Pending))
    );
    let (_, result) = give(&[words, lost()]);
    assert!(
        matches!(result, Err(CallError::Unknown { .. })),
        "{result:?}"
    );
}

#[test]
fn a_doubtful_refund_is_looked_for_and_never_repeated() {
    let g = gateway();
    let give = |answers: &[Answer]| {
        let all = [&[paid()], answers].concat();
        let (calls, result) = play(&all, |a| g.refund(&refund(), a));
        (calls[1..].to_vec(), result)
    };
    let shown = with_refunds(
        "245",
        "4",
        &json!([{"amount": "10000", "arn": "7401", "merchantRefId": refund().token}]),
    );
    let absent = orders(&[order("228", "0")]);
    let mut foreign = json!({"orderDetail": {"orderId": "A1"}, "responseCode": "230"});
    foreign["merchantIdentifier"] = json!(MERCHANT);
    for doubt in [
        lost(),
        body(500, b""),
        body(504, b"<html>"),
        body(200, b"<zaakpay_response><response_element><responsecode>230</responsecode></response_element></zaakpay_response>"),
        body(200, b"{\"resp"),
        reply(200, &json!({})),
        reply(200, &foreign),
        update("20"),
        update("21"),
        update("203"),
        // Of no list: it may mean anything.
        update("999"),
    ] {
        assert_eq!(
            give(&[doubt.clone(), shown.clone()]),
            (vec!["refund", "check_txn"], Ok(ours(RefundStatus::Pending)))
        );
        for unclear in [absent.clone(), complaint("205"), lost(), body(500, b""), complaint("180")] {
            let (_, result) = give(&[doubt.clone(), unclear]);
            assert!(matches!(result, Err(CallError::Unknown { .. })), "{doubt:?}: {result:?}");
        }
    }
    // 19 is a yes that may not be shown yet.
    assert_eq!(
        give(&[update("19"), shown]).1,
        Ok(ours(RefundStatus::Pending))
    );
    for unclear in [absent, lost(), complaint("205")] {
        assert_eq!(give(&[update("19"), unclear]).1, Ok(taken()));
    }
}

#[test]
fn a_refund_is_found_again() {
    let g = gateway();
    let ask = |request: &RefundRequest, answer: Answer| {
        play(&[answer], |a| g.lookup_refund(request, a)).1
    };
    let one =
        |code: &str, txn: &str, refunds: Value| ask(&refund(), with_refunds(code, txn, &refunds));
    let token = refund().token;
    let named =
        |name: &str, amount: &str| json!({"amount": amount, "arn": "7401", "merchantRefId": name});

    assert_eq!(
        one(
            "245",
            "4",
            json!([named("x", "10000"), named(&token, "10000")])
        ),
        Ok(Some(ours(RefundStatus::Pending)))
    );
    assert_eq!(
        one("251", "4", json!([named(&token, "10000")])),
        Ok(Some(ours(RefundStatus::Processed)))
    );
    // The vendor's own answer to such a question has no name in it.
    assert_eq!(
        one("252", "4", json!([{"amount": "10000", "arn": "7401"}])),
        Ok(Some(ours(RefundStatus::Processed)))
    );
    assert_eq!(
        one("252", "4", json!([{"amount": "9999", "arn": "7401"}])),
        Ok(None)
    );
    assert!(matches!(
        one(
            "252",
            "4",
            json!([{"amount": "10000"}, {"amount": "10000"}])
        ),
        Err(CallError::Unavailable { .. })
    ));
    // With other refunds about, it may be any of them.
    for other in [
        RefundRequest {
            before: Paise::new(500).unwrap(),
            ..refund()
        },
        RefundRequest {
            same_amount_at: Some(NOW),
            ..refund()
        },
    ] {
        let unnamed = json!([{"amount": "10000", "arn": "7401"}]);
        assert!(matches!(
            ask(&other, with_refunds("252", "4", &unnamed)),
            Err(CallError::Unavailable { .. })
        ));
        assert_eq!(
            ask(
                &other,
                with_refunds(
                    "251",
                    "4",
                    &json!([{"amount": "10000"}, named(&token, "10000")])
                )
            ),
            Ok(Some(ours(RefundStatus::Processed)))
        );
    }
    assert_eq!(one("245", "4", json!([named("x", "10000")])), Ok(None));
    assert_eq!(ask(&refund(), orders(&[order("228", "0")])), Ok(None));
    assert_eq!(ask(&refund(), complaint("205")), Ok(None));
    // "When failure is recieved in check status": given up.
    let failed = RefundReport {
        error: Some("201".to_owned()),
        status: RefundStatus::Failed,
        ..taken()
    };
    assert_eq!(
        ask(&refund(), orders(&[order("201", "1")])),
        Ok(Some(failed))
    );
    assert_eq!(ask(&refund(), orders(&[order("205", "1")])), Ok(None));
    // A question that was wrong is not an answer about the refund.
    assert!(matches!(
        ask(&refund(), orders(&[order("180", "1")])),
        Err(CallError::Rejected { .. })
    ));
    // All of it goes back, whoever asked.
    let whole = RefundReport {
        amount: full_refund().amount,
        ..taken()
    };
    assert_eq!(
        ask(&full_refund(), orders(&[order("230", "3")])),
        Ok(Some(whole.clone()))
    );
    let done = RefundReport {
        status: RefundStatus::Processed,
        ..whole
    };
    assert_eq!(
        ask(&full_refund(), orders(&[order("236", "3")])),
        Ok(Some(done))
    );
    assert_eq!(ask(&refund(), orders(&[order("230", "3")])), Ok(None));
    for unclear in [lost(), body(502, b""), body(200, b"x")] {
        assert!(matches!(
            ask(&refund(), unclear),
            Err(CallError::Unavailable { .. })
        ));
    }
}

#[test]
fn a_reason_is_what_zaakpay_takes() {
    let g = gateway();
    let said = |reason: Option<&str>| {
        let request = RefundRequest {
            reason: reason.map(str::to_owned),
            ..refund()
        };
        let form = String::from_utf8(call(g.refund(&request, &[paid()])).body.unwrap().1).unwrap();
        let data = decoded(
            form.strip_prefix("data=")
                .unwrap()
                .split('&')
                .next()
                .unwrap(),
        );
        let data: Value = serde_json::from_str(&data).unwrap();
        data["updateReason"].as_str().unwrap().to_owned()
    };
    for (given, expected) in [
        (Some("One bag was torn"), "One bag was torn"),
        (Some("torn - \"badly\""), "torn badly"),
        (Some("bad"), "Refund by the shop"),
        (Some("चावल खराब"), "Refund by the shop"),
        (None, "Refund by the shop"),
        (
            Some("one two three four five six seven"),
            "one two three four five six se",
        ),
        (
            Some("one two three four five sixty seven"),
            "one two three four five sixty",
        ),
    ] {
        assert_eq!(said(given), expected);
        assert!((5..=30).contains(&expected.len()));
    }
}
