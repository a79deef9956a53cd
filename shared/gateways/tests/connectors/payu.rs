//! PayU.

use std::sync::atomic::{AtomicU32, Ordering};

use chatbill_domain::bill::Bill;
use chatbill_domain::connector::{Gateway, Signal, Trust, signals};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, MAX_CALLS, Obstacle, Step};
use chatbill_domain::ids::{ReferenceId, TenantId};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Closed, Found, LookupRequest, PaymentMode, PaymentReport,
    PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::proof::BillProofs;
use chatbill_domain::signature::sha512_hex;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use chatbill_testkit::builders::{
    NOW, bill, bill_with, lookup_request, payment_request, reference, refund_request,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Probe, bytes, fixture, lost, printed, read, reply, tenant};

const KEY: &str = "gtKFFx";
const SALT: &str = "saltDemo0001eCwWELxi";
/// In the address that PayU was given.
const TOKEN: &str = "token-of-the-address";
/// What PayU calls the bill BM345A-12 of acme.
const ORDER: &str = "BM345A12SA29TPIC532XC8OB";

/// What names the bill BM345A-12 on everything of it.
fn udf1() -> String {
    udf1_of("acme", "BM345A-12")
}

fn proofs_of(of: &str) -> BillProofs {
    let secrets = vec!["0123456789abcdef".into()];
    BillProofs::new(TenantId::parse(of).unwrap(), secrets)
}

fn udf1_of(of: &str, bill: &str) -> String {
    let bill = reference(bill);
    format!("{bill}:{}", proofs_of(of).named_mark(&bill).unwrap())
}

/// The invoice number of a tenant's bill.
fn number_of(of: &str, bill: &str) -> String {
    let mut document = tenant(&payment("payment_link"));
    document.payment.proofs = proofs_of(of);
    let g = chatbill_gateways::open(&document).unwrap();
    g.order_id(&reference(bill)).into()
}

fn payment(mode: &str) -> Value {
    // Tokens are kept for the life of a process, so every gateway of a test is another client.
    static CLIENTS: AtomicU32 = AtomicU32::new(0);
    let client = CLIENTS.fetch_add(1, Ordering::Relaxed);
    json!({
        "mode": mode, "gateway": "payu", "configuration_name": "shop-payu",
        "credentials": {
            "key": KEY, "salts": ["newer", SALT], "merchant_id": "8237550",
            "client_id": format!("client-{client}"), "client_secret": "s3cret", "callback_token": TOKEN,
        },
    })
}

fn open(payment: &Value) -> Box<dyn Gateway> {
    chatbill_gateways::open(&tenant(payment)).unwrap()
}

fn gateway() -> Box<dyn Gateway> {
    open(&payment("payment_link"))
}

fn encoded(pairs: &[(&str, &str)]) -> Vec<u8> {
    let escape = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect::<Vec<_>>()
        .join("&")
        .into_bytes()
}

fn form(body: Vec<u8>) -> RawWebhook {
    RawWebhook {
        headers: vec![(
            "content-type".into(),
            "application/x-www-form-urlencoded".into(),
        )],
        query: vec![],
        body,
    }
}

fn callback(document: &Value) -> RawWebhook {
    RawWebhook {
        headers: vec![(
            "content-type".into(),
            "application/json; charset=utf-8".into(),
        )],
        query: vec![("token".into(), TOKEN.into())],
        body: document.to_string().into_bytes(),
    }
}

/// A payment's webhook as PayU signs it, with some fields changed before.
fn signed(salt: &str, changes: &[(&str, &str)]) -> RawWebhook {
    let fields = hashed(salt, changes);
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    form(encoded(&fields))
}

/// Its fields, and their hash.
fn hashed(salt: &str, changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let udf1 = udf1();
    let mut fields = vec![
        ("mihpayid", "403993715530000001"),
        ("mode", "UPI"),
        ("status", "success"),
        ("unmappedstatus", "captured"),
        ("key", KEY),
        ("txnid", "80203"),
        ("amount", "850.00"),
        ("addedon", "2026-11-22 05:31:00"),
        ("productinfo", "Acme Stores bill"),
        ("firstname", "Pallavi"),
        ("email", ""),
        ("udf1", udf1.as_str()),
        ("error", "E000"),
    ];
    for (name, value) in changes {
        match fields.iter_mut().find(|(n, _)| n == name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    let of = |name: &str| {
        fields
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, value)| *value)
    };
    let message = format!(
        "{salt}|{}||||||{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
        of("status"),
        of("udf5"),
        of("udf4"),
        of("udf3"),
        of("udf2"),
        of("udf1"),
        of("email"),
        of("firstname"),
        of("productinfo"),
        of("amount"),
        of("txnid"),
        of("key"),
    );
    let hash = sha512_hex(message.as_bytes());
    fields.push(("hash", &hash));
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

pub(crate) fn probe() -> Probe {
    let webhook = signed(SALT, &[]);
    let mut unsigned = webhook.clone();
    let text = String::from_utf8(unsigned.body).unwrap();
    unsigned.body = text.split_once("&hash=").unwrap().0.into();
    Probe {
        tenant: tenant(&payment("payment_link")),
        webhook,
        unsigned,
        calls: &[
            "token",
            "create_link",
            "fetch_link",
            "link_payments",
            "check_payment",
            "verify_payment",
            "deactivate_link",
            "refund",
            "refunds",
        ],
    }
}

fn request() -> PaymentRequest {
    PaymentRequest {
        order_id: ORDER.to_owned(),
        ..payment_request(PaymentMode::PaymentLink)
    }
}

fn lookup(gateway_id: Option<&str>) -> LookupRequest {
    LookupRequest {
        order_id: ORDER.to_owned(),
        ..lookup_request(PaymentMode::PaymentLink, gateway_id)
    }
}

fn refund() -> RefundRequest {
    refund_request(PaymentMode::PaymentLink, "403993715530075847")
}

fn token() -> Answer {
    reply(200, &fixture("payu/reply_token.json"))
}

fn vendor(status: u16, name: &str) -> Answer {
    reply(status, &fixture(&format!("payu/{name}.json")))
}

/// The bill's link as the documents show one, in another state.
fn link(changes: &Value) -> Answer {
    let mut document = fixture("payu/reply_link.json");
    let link = &mut document["result"];
    link["invoiceNumber"] = json!(ORDER);
    link["totalAmount"] = json!(850);
    link["expiryDate"] = json!("2026-11-22T06:00:00.000+0530");
    link["udf"]["udf1"] = json!(udf1());
    for (name, value) in changes.as_object().unwrap() {
        link[name] = value.clone();
    }
    reply(200, &document)
}

fn same() -> Value {
    json!({})
}

fn created(changes: &Value) -> Answer {
    let mut document = fixture("payu/reply_link_created.json");
    let link = &mut document["result"];
    link["invoiceNumber"] = json!(ORDER);
    link["totalAmount"] = json!(850);
    link["expiryDate"] = json!("2026-11-22 06:00:00");
    for (name, value) in changes.as_object().unwrap() {
        link[name] = value.clone();
    }
    reply(200, &document)
}

fn started(link: &str) -> Started {
    Started {
        id: ORDER.into(),
        link: link.into(),
        expires_at: NOW.plus_seconds(1800),
        extra: None,
    }
}

const CREATED: &str = "http://pp72.pmny.in/MIioqucT8hXV";
const FETCHED: &str = "http://pp72.pmny.in/4IwlctBtwp2V";

fn payments(rows: &[(&str, &str)]) -> Answer {
    let mut document = fixture("payu/reply_link_payments.json");
    let row = document["result"]["data"][0].clone();
    document["result"]["data"] = rows
        .iter()
        .map(|(id, status)| {
            let mut row = row.clone();
            row["transactionId"] = json!(id);
            row["status"] = json!(status);
            row
        })
        .collect();
    reply(200, &document)
}

fn checked(changes: &Value) -> Answer {
    let mut document = fixture("payu/reply_check_payment.json");
    for (name, value) in changes.as_object().unwrap() {
        document["transaction_details"][name] = value.clone();
    }
    reply(200, &document)
}

/// The payment of the vendor's sample.
fn paid(paise: i64) -> PaymentReport {
    PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status: AttemptStatus::Captured,
        payment_id: "403993715530075847".into(),
        amount: Paise::new(paise).unwrap(),
        currency: "INR".into(),
        method: Some("card".into()),
        error: None,
        // 2023-09-12 14:50:48 in India.
        at: Some(Millis::from_seconds(1_694_510_448)),
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
                assert_eq!(
                    given,
                    answers.len(),
                    "not all answers were wanted: {result:?}"
                );
                assert!(given <= MAX_CALLS);
                return (labels, result);
            }
            Step::Call(call) => labels.push(call.label.strip_prefix("payu.").unwrap()),
        }
    }
    panic!("after {labels:?} it wants another answer");
}

fn call<T: std::fmt::Debug>(step: Step<T>) -> HttpCall {
    match step {
        Step::Call(call) => *call,
        Step::Done(result) => panic!("no call but {result:?}"),
    }
}

fn text(answer: &Answer) -> Value {
    match answer {
        Answer::Reply(reply) => reply.json().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn rejected<T: std::fmt::Debug>(result: &Result<T, CallError>, code: &str) {
    assert!(
        matches!(result, Err(CallError::Rejected { code: c, .. }) if c == code),
        "{code}: {result:?}"
    );
}

fn unknown<T: std::fmt::Debug>(result: &Result<T, CallError>) {
    assert!(
        matches!(result, Err(CallError::Unknown { .. })),
        "{result:?}"
    );
}

fn unavailable<T: std::fmt::Debug>(result: &Result<T, CallError>) {
    assert!(
        matches!(result, Err(CallError::Unavailable { .. })),
        "{result:?}"
    );
}

#[test]
fn the_calls() {
    let g = gateway();
    let mut call_for_token = printed(&call(g.start(&request(), &[])));
    let content = call_for_token["body"]["content"].as_str().unwrap();
    assert!(content.contains("client_secret=s3cret"));
    let (client, _) = content.split_once('&').unwrap();
    call_for_token["body"]["content"] = content
        .replace(client, "client_id=[client]")
        .replace("s3cret", "[redacted]")
        .into();
    insta::assert_json_snapshot!("token", call_for_token);
    insta::assert_json_snapshot!(
        "create_link",
        printed(&call(g.start(&request(), &[token()])))
    );
    let id = lookup(Some(ORDER));
    insta::assert_json_snapshot!("fetch_link", printed(&call(g.lookup(&id, &[]))));
    let mut answers = vec![link(&same())];
    insta::assert_json_snapshot!("link_payments", printed(&call(g.lookup(&id, &answers))));
    answers.push(payments(&[("403993715530075847", "success")]));
    insta::assert_json_snapshot!("check_payment", printed(&call(g.lookup(&id, &answers))));
    insta::assert_json_snapshot!(
        "deactivate_link",
        printed(&call(g.cancel(&id, &[link(&same())])))
    );
    let native = lookup_request(PaymentMode::PaymentGateway, None);
    insta::assert_json_snapshot!("verify_payment", printed(&call(g.lookup(&native, &[]))));
    insta::assert_json_snapshot!("refund", printed(&call(g.refund(&refund(), &[]))));
    insta::assert_json_snapshot!("refunds", printed(&call(g.lookup_refund(&refund(), &[]))));
}

#[test]
fn a_base_url_replaces_all_hosts() {
    let mut settings = payment("payment_link");
    settings["base_url"] = json!("https://uat.example/payu/");
    let g = open(&settings);
    let id = lookup(Some("a/../b?"));
    assert_eq!(
        call(g.lookup(&id, &[])).url,
        "https://uat.example/payu/oauth/token"
    );
    assert_eq!(
        call(g.lookup(&id, &[token()])).url,
        "https://uat.example/payu/payment-links/a%2F..%2Fb%3F"
    );
    assert_eq!(
        call(g.refund(&refund(), &[])).url,
        "https://uat.example/payu/merchant/postservice.php?form=2"
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
    assert_eq!(faults(&payment("payment_gateway")), []);
    let mut bad = payment("upi_intent");
    bad["credentials"] = json!({"key": "a|b", "salts": [], "client_id": "x", "merchant_id": "1\r\nx: y", "salt": "s"});
    let seen = faults(&bad);
    for expected in [
        ("/payment/mode", "impossible"),
        ("/payment/credentials/key", "invalid"),
        ("/payment/credentials/salts", "invalid"),
        ("/payment/credentials/client_secret", "missing"),
        ("/payment/credentials/merchant_id", "invalid"),
        ("/payment/credentials/salt", "unknown_field"),
    ] {
        assert!(
            seen.contains(&(expected.0.to_owned(), expected.1)),
            "{expected:?} in {seen:?}"
        );
    }
    bad["credentials"]["merchant_id"] = json!("82-37");
    let of_the_id = ("/payment/credentials/merchant_id".to_owned(), "invalid");
    assert!(faults(&bad).contains(&of_the_id));
}

#[test]
fn an_invoice_number_names_tenant_and_bill() {
    assert_eq!(number_of("acme", "BM345A-12"), ORDER);
    let mut seen = std::collections::BTreeSet::new();
    for of in ["acme", "bazaar"] {
        for bill in [
            "1001",
            "BM345A12",
            "BM345A-12",
            "BM345A.12",
            &"7".repeat(35),
        ] {
            let id = number_of(of, bill);
            assert!(id.len() <= 25 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
            assert_eq!(id, number_of(of, bill));
            assert!(seen.insert(id));
        }
    }
}

/// Two merchants on one account, both with a bill BM345A-12.
#[test]
fn a_link_of_another_tenant_is_never_taken_up() {
    let again = PaymentRequest {
        maybe_exists: true,
        ..request()
    };
    for foreign in [
        udf1_of("bazaar", "BM345A-12"),
        udf1_of("acme", "BM345A-13"),
        "BM345A-12".to_owned(),
        "BM345A-12:acme.aaaaaaaaaaaaaaaa".to_owned(),
    ] {
        let other = || link(&json!({"udf": {"udf1": foreign}}));
        let g = gateway();
        let (_, result) = play(&[token(), other()], |a| g.start(&again, a));
        rejected(&result, "link_other_reference");
        let g = gateway();
        let taken = vendor(200, "reply_link_taken");
        let (_, result) = play(&[token(), taken, other()], |a| g.start(&request(), a));
        rejected(&result, "link_other_reference");
        // Nor is it asked about where nothing is recorded.
        rejected(&ask(&[other()], None), "link_other_reference");
    }
    // One that was recorded stays ours, whatever became of the secrets since.
    let old = link(&json!({"udf": {"udf1": "BM345A-12:acme.aaaaaaaaaaaaaaaa"}}));
    assert!(ask(&[old, payments(&[])], Some(ORDER)).is_ok());
}

#[test]
fn a_bill_below_a_rupee_is_refused_beforehand() {
    let g = gateway();
    let codes = |paise: i64| -> Vec<(String, &'static str)> {
        let document = json!({
            "reference_id": "BM345A-12", "customer": {"phone": "+919876543210"}, "goods": "physical-goods",
            "items": [{"retailer_id": "1", "name": "Rice", "quantity": 1, "amount": {"value": paise, "offset": 100}}],
        });
        let bill = Bill::read(&document, chatbill_domain::phone::Country::INDIA, || {
            reference("x")
        })
        .unwrap();
        g.check(&bill, PaymentMode::PaymentLink, 300)
            .into_iter()
            .map(|f| (f.pointer, f.code))
            .collect()
    };
    assert_eq!(codes(100), []);
    assert_eq!(codes(99), [("/total_amount".into(), "too_small")]);
}

fn body_of(request: &PaymentRequest) -> (String, Value) {
    let g = gateway();
    let call = call(g.start(request, &[token()]));
    let text = String::from_utf8(call.body.unwrap().1).unwrap();
    let document = serde_json::from_str(&text).unwrap();
    (text, document)
}

#[test]
fn the_amount_is_a_number_with_every_digit() {
    for (paise, written) in [
        (100, "1"),
        (84_050, "840.50"),
        (84_001, "840.01"),
        (50_000_000, "500000"),
        (9_007_199_254_740_993, "90071992547409.93"),
    ] {
        let request = PaymentRequest {
            amount: Paise::new(paise).unwrap(),
            ..request()
        };
        let (text, _) = body_of(&request);
        assert!(
            text.starts_with(&format!("{{\"subAmount\":{written},\"")),
            "{text}"
        );
    }
}

#[test]
fn udf1_names_the_bill_and_the_merchants_own_moves() {
    let request = PaymentRequest {
        bill: bill_with(|b| {
            b["udf1"] = json!("shop|7");
            b["udf2"] = json!("till 3");
            b["udf4"] = json!("₹");
            b["customer"] = json!({"phone": "+14155550100"});
        }),
        description: format!("a|b{}", "x".repeat(200)),
        ..request()
    };
    let (_, body) = body_of(&request);
    assert_eq!(
        body["udf"],
        json!({"udf1": udf1(), "udf2": "till 3", "udf3": "", "udf4": "₹", "udf5": "shop/7"})
    );
    assert_eq!(
        body["customer"],
        json!({"name": "Customer", "phone": "+14155550100"})
    );
    let description = body["description"].as_str().unwrap();
    assert!(description.starts_with("a/bx") && description.len() == 100);
}

#[test]
fn creating_a_link() {
    let start = |answers: &[Answer]| {
        let g = gateway();
        play(answers, |a| g.start(&request(), a))
    };
    assert_eq!(
        start(&[token(), created(&same())]),
        (vec!["token", "create_link"], Ok(started(CREATED)))
    );
    let undated = created(&json!({"expiryDate": null}));
    assert_eq!(
        start(&[token(), undated]).1.unwrap().expires_at,
        request().expires_at
    );

    // Nothing happened: ask again later.
    for answer in [
        Answer::NotSent("connection refused".into()),
        reply(429, &json!("slow down")),
    ] {
        let (calls, result) = start(&[token(), answer]);
        assert_eq!(calls, ["token", "create_link"]);
        unavailable(&result);
    }
    // A clear no.
    for (answer, code) in [
        (
            reply(
                400,
                &json!({"status": -1, "message": "wrong amount", "errorCode": 170}),
            ),
            "170",
        ),
        (
            reply(
                200,
                &json!({"status": -1, "message": "wrong amount", "errorCode": null}),
            ),
            "refused",
        ),
        (reply(403, &json!({})), "gateway_credentials"),
        (reply(404, &json!("nothing")), "http_404"),
    ] {
        rejected(&start(&[token(), answer]).1, code);
    }
}

#[test]
fn a_token_is_kept_and_renewed() {
    let settings = payment("payment_link");
    let g = open(&settings);
    let at = |now: Millis| PaymentRequest { now, ..request() };
    let made = || created(&same());
    let (calls, _) = play(&[token(), made()], |a| g.start(&at(NOW), a));
    assert_eq!(calls, ["token", "create_link"]);
    // Another bill, another gateway object, the same process.
    let again = open(&settings);
    let (calls, _) = play(&[made()], |a| again.start(&at(NOW.plus_seconds(6899)), a));
    assert_eq!(calls, ["create_link"]);
    // It lives 7200 seconds; five minutes before its end another one is fetched.
    let late = at(NOW.plus_seconds(6900));
    let (calls, _) = play(&[token(), made()], |a| g.start(&late, a));
    assert_eq!(calls, ["token", "create_link"]);

    // PayU ended it early.
    let expired = || reply(401, &json!({"error": "invalid_token"}));
    let mut newer = fixture("payu/reply_token.json");
    newer["access_token"] = json!("newer");
    let newer = reply(200, &newer);
    let (calls, result) = play(&[expired(), newer.clone(), made()], |a| g.start(&late, a));
    assert_eq!(calls, ["create_link", "token", "create_link"]);
    assert!(result.is_ok());
    let sent = call(g.start(&late, &[]));
    let authorization = sent.authorization.unwrap();
    assert_eq!(
        secrecy::ExposeSecret::expose_secret(&authorization),
        "Bearer newer"
    );
    // Once is enough.
    let (_, result) = play(&[expired(), newer, expired()], |a| g.start(&late, a));
    rejected(&result, "gateway_credentials");

    // Another secret does not live on this one's token.
    let mut other = settings;
    other["credentials"]["client_secret"] = json!("rotated");
    assert_eq!(call(open(&other).start(&late, &[])).label, "payu.token");
}

#[test]
fn without_a_token_nothing_happened() {
    for (answer, code) in [
        (
            reply(401, &json!({"error": "invalid_client"})),
            Some("gateway_credentials"),
        ),
        (
            reply(400, &json!({"error": "invalid_client"})),
            Some("gateway_credentials"),
        ),
        (lost(), None),
        (Answer::NotSent("no route".into()), None),
        (reply(503, &json!({})), None),
        (reply(200, &json!({"token_type": "Bearer"})), None),
    ] {
        let g = gateway();
        let (calls, result) = play(&[answer], |a| g.start(&request(), a));
        assert_eq!(calls, ["token"]);
        match code {
            Some(code) => rejected(&result, code),
            None => unavailable(&result),
        }
    }
    // One that does not say how long it lives is good for this conversation only.
    let g = gateway();
    let brief = reply(200, &json!({"access_token": "brief"}));
    let (calls, _) = play(&[brief, created(&same())], |a| g.start(&request(), a));
    assert_eq!(calls, ["token", "create_link"]);
    assert_eq!(call(g.start(&request(), &[])).label, "payu.token");
}

#[test]
fn after_a_doubt_it_looks_before_it_creates_again() {
    let none = || vendor(200, "reply_link_not_found");
    let doubts = [
        lost(),
        reply(500, &json!({})),
        reply(
            500,
            &json!({"status": -1, "message": "Something went wrong"}),
        ),
        Answer::Reply(HttpReply {
            status: 504,
            retry_after: None,
            body: b"<html>".to_vec(),
        }),
        Answer::Reply(HttpReply {
            status: 200,
            retry_after: None,
            body: b"{\"status\":".to_vec(),
        }),
        created(&json!({"paymentLink": null})),
        created(&json!({"paymentLink": "javascript:alert(1)"})),
        created(&json!({"totalAmount": 850.01})),
        created(&json!({"invoiceNumber": "INV1"})),
    ];
    for doubt in doubts {
        let start = |answers: &[Answer]| {
            let g = gateway();
            let answers: Vec<_> = std::iter::once(token()).chain(answers.to_vec()).collect();
            let (calls, result) = play(&answers, |a| g.start(&request(), a));
            (calls[1..].to_vec(), result)
        };
        assert_eq!(
            start(&[doubt.clone(), link(&same())]),
            (vec!["create_link", "fetch_link"], Ok(started(FETCHED)))
        );
        assert_eq!(
            start(&[doubt.clone(), none(), created(&same())]),
            (
                vec!["create_link", "fetch_link", "create_link"],
                Ok(started(CREATED))
            )
        );
        unknown(&start(&[doubt.clone(), lost()]).1);
        unknown(&start(&[doubt.clone(), Answer::NotSent("no route".into())]).1);
        unknown(&start(&[doubt.clone(), none(), doubt.clone(), none()]).1);
        // The second try was refused; what became of the first is as open as it was.
        unknown(&start(&[doubt.clone(), none(), reply(400, &json!({})), none()]).1);
        // A token that ends in the middle leaves no room for a second try.
        let expired = reply(401, &json!({}));
        let (calls, result) = start(&[doubt.clone(), expired.clone(), token(), none()]);
        assert_eq!(calls.len(), 4);
        unknown(&result);
        unknown(&start(&[doubt.clone(), expired.clone(), token(), expired]).1);
    }
}

#[test]
fn a_number_that_is_taken_is_looked_up() {
    for status in [200, 400, 500] {
        let start = |found: Answer| {
            let g = gateway();
            let taken = vendor(status, "reply_link_taken");
            play(&[token(), taken, found], |a| g.start(&request(), a))
        };
        assert_eq!(
            start(link(&same())),
            (
                vec!["token", "create_link", "fetch_link"],
                Ok(started(FETCHED))
            )
        );
        assert!(start(link(&json!({"udf": null}))).1.is_ok());
        for (found, code) in [
            (json!({"status": "inactive"}), "link_canceled"),
            (json!({"status": null, "active": false}), "link_canceled"),
            (json!({"status": "expired"}), "link_expired"),
            (
                json!({"totalAmountCollected": 850, "status": "expired"}),
                "link_paid",
            ),
            (json!({"totalAmount": 850.5}), "link_other_amount"),
            (json!({"totalAmount": null}), "link_other_amount"),
            (
                json!({"udf": {"udf1": "bm345a-12"}}),
                "link_other_reference",
            ),
        ] {
            rejected(&start(link(&found)).1, code);
        }
        for found in [
            vendor(200, "reply_link_not_found"),
            lost(),
            reply(500, &json!({})),
            reply(200, &json!([])),
            link(&json!({"invoiceNumber": "another"})),
        ] {
            unknown(&start(found).1);
        }
    }
}

#[test]
fn what_may_exist_is_looked_for_first() {
    let again = PaymentRequest {
        maybe_exists: true,
        ..request()
    };
    let start = |answers: &[Answer]| {
        let g = gateway();
        play(answers, |a| g.start(&again, a))
    };
    let none = || vendor(200, "reply_link_not_found");
    assert_eq!(
        start(&[token(), link(&same())]),
        (vec!["token", "fetch_link"], Ok(started(FETCHED)))
    );
    assert_eq!(
        start(&[token(), none(), created(&same())]),
        (
            vec!["token", "fetch_link", "create_link"],
            Ok(started(CREATED))
        )
    );
    unavailable(&start(&[token(), lost()]).1);
    // The longest conversation there is.
    let (calls, result) = start(&[token(), none(), lost(), none(), lost(), none()]);
    assert_eq!(calls.len(), MAX_CALLS);
    unknown(&result);
}

fn ask(answers: &[Answer], gateway_id: Option<&str>) -> Result<Found, CallError> {
    let g = gateway();
    let answers: Vec<_> = std::iter::once(token()).chain(answers.to_vec()).collect();
    play(&answers, |a| g.lookup(&lookup(gateway_id), a)).1
}

#[test]
fn a_lookup_asks_the_link_and_then_each_payment() {
    let success = || payments(&[("403993715530075847", "success")]);
    let full = link(&json!({"totalAmountCollected": 850, "status": "expired"}));
    assert_eq!(
        ask(
            &[full, success(), checked(&json!({"amt": "850.00"}))],
            Some(ORDER)
        ),
        Ok(Found {
            reports: vec![paid(85_000)],
            // It is closed because it is paid.
            closed: None,
            refunds: vec![],
        })
    );
    // Another amount is passed on as it is, and authorised money is not captured.
    for (changes, expected) in [
        (same(), paid(1_000)),
        (json!({"amt": "850.01"}), paid(85_001)),
        (
            json!({"amt": "850.00", "unmappedstatus": "auth"}),
            PaymentReport {
                paid_in_full: None,
                fee: None,
                offer: None,
                status: AttemptStatus::Authorized,
                ..paid(85_000)
            },
        ),
        (
            json!({"status": "failure", "unmappedstatus": "autoRefund", "error_code": "E1602"}),
            PaymentReport {
                paid_in_full: None,
                fee: None,
                offer: None,
                status: AttemptStatus::Failed,
                error: Some("E1602".into()),
                ..paid(1_000)
            },
        ),
    ] {
        let found = ask(&[link(&same()), success(), checked(&changes)], None).unwrap();
        assert_eq!(found.reports, [expected]);
    }
    let found = ask(
        &[
            link(&json!({"status": "inactive"})),
            payments(&[("3", "failure"), ("2", "pending"), ("1", "bounced")]),
        ],
        Some(ORDER),
    )
    .unwrap();
    let states: Vec<_> = found
        .reports
        .iter()
        .map(|r| (r.status, r.amount.get()))
        .collect();
    assert_eq!(
        states,
        [
            (AttemptStatus::Failed, 85_000),
            (AttemptStatus::Pending, 85_000),
            (AttemptStatus::Failed, 85_000)
        ]
    );
    assert_eq!(found.closed, Some(Closed::Canceled));
    let expired = link(&json!({"status": "expired"}));
    let found = ask(&[expired, payments(&[])], Some(ORDER)).unwrap();
    assert_eq!(
        (found.reports.len(), found.closed),
        (0, Some(Closed::Expired))
    );
}

#[test]
fn a_lookup_that_learns_nothing_says_so() {
    let success = || payments(&[("403993715530075847", "success")]);
    let none = || vendor(200, "reply_link_not_found");
    assert_eq!(ask(&[none()], None), Ok(Found::default()));
    rejected(&ask(&[none()], Some(ORDER)), "link_unusable");
    let other = link(&json!({"udf": {"udf1": "BM345A-1"}}));
    rejected(&ask(&[other], Some(ORDER)), "link_other_reference");
    for answers in [
        vec![lost()],
        vec![reply(500, &json!({}))],
        vec![link(&json!({"invoiceNumber": "another"}))],
        vec![link(&same()), lost()],
        vec![
            link(&same()),
            reply(200, &json!({"status": 0, "result": {}})),
        ],
        vec![link(&json!({"totalAmountCollected": 850})), payments(&[])],
        vec![link(&same()), success(), lost()],
        vec![link(&same()), success(), reply(200, &json!("x"))],
        vec![link(&same()), success(), checked(&json!({"amt": "8.5e2"}))],
        vec![
            link(&same()),
            success(),
            checked(&json!({"mihpayid": "403993715530075848"})),
        ],
        vec![
            link(&same()),
            success(),
            vendor(200, "reply_verify_not_found"),
        ],
        vec![
            link(&same()),
            success(),
            vendor(200, "reply_parameter_missing"),
        ],
    ] {
        unavailable(&ask(&answers, Some(ORDER)));
    }
    let hash = reply(200, &json!({"status": 0, "msg": "Invalid Hash."}));
    rejected(
        &ask(&[link(&same()), success(), hash], Some(ORDER)),
        "gateway_credentials",
    );
    // More payments than can be asked about in one conversation.
    let four = payments(&[
        ("1", "success"),
        ("2", "success"),
        ("3", "success"),
        ("4", "success"),
    ]);
    let each = |id: &str| checked(&json!({"mihpayid": id}));
    unavailable(&ask(
        &[link(&same()), four, each("1"), each("2"), each("3")],
        Some(ORDER),
    ));
}

#[test]
fn a_native_payment_is_looked_for_under_its_message() {
    let g = open(&payment("payment_gateway"));
    let native = LookupRequest {
        reference: reference("1733900931584"),
        ..lookup_request(PaymentMode::PaymentGateway, None)
    };
    let (calls, found) = play(&[vendor(200, "reply_verify_failed")], |a| {
        g.lookup(&native, a)
    });
    assert_eq!(calls, ["verify_payment"]);
    assert_eq!(
        found.unwrap().reports,
        [PaymentReport {
            paid_in_full: None,
            fee: None,
            offer: None,
            status: AttemptStatus::Failed,
            payment_id: "21820644083".into(),
            amount: Paise::new(100).unwrap(),
            currency: "INR".into(),
            method: Some("card".into()),
            error: Some("E1602".into()),
            at: Some(Millis::from_seconds(1_733_901_183)),
        }]
    );
    let missing = LookupRequest {
        reference: reference("IhfgcZnXR4o4nB"),
        ..native.clone()
    };
    let (_, found) = play(&[vendor(200, "reply_verify_not_found")], |a| {
        g.lookup(&missing, a)
    });
    assert_eq!(found, Ok(Found::default()));
    let (_, canceled) = play(&[], |a| g.cancel(&native, a));
    assert!(matches!(canceled, Err(CallError::Unsupported(_))));
}

#[test]
fn canceling_a_link() {
    let cancel = |answers: &[Answer], gateway_id: Option<&str>| {
        let g = gateway();
        let answers: Vec<_> = std::iter::once(token()).chain(answers.to_vec()).collect();
        play(&answers, |a| g.cancel(&lookup(gateway_id), a)).1
    };
    let updated = || vendor(200, "reply_link_updated");
    let inactive = || link(&json!({"status": "inactive", "active": false}));
    let full = || link(&json!({"totalAmountCollected": 850, "status": "expired"}));
    assert_eq!(
        cancel(&[link(&same()), updated(), inactive()], Some(ORDER)),
        Ok(Canceled::Closed)
    );
    assert_eq!(cancel(&[inactive()], Some(ORDER)), Ok(Canceled::Closed));
    assert_eq!(cancel(&[full()], Some(ORDER)), Ok(Canceled::AlreadyPaid));
    // Nobody was ever given a link that was never made.
    let none = || vendor(200, "reply_link_not_found");
    assert_eq!(cancel(&[none()], None), Ok(Canceled::Closed));
    rejected(&cancel(&[none()], Some(ORDER)), "link_unusable");
    // Paid in between, whatever the answer was.
    for answer in [updated(), lost(), vendor(400, "reply_link_not_updated")] {
        assert_eq!(
            cancel(&[link(&same()), answer.clone(), full()], Some(ORDER)),
            Ok(Canceled::AlreadyPaid)
        );
        assert_eq!(
            cancel(&[link(&same()), answer.clone(), inactive()], Some(ORDER)),
            Ok(Canceled::Closed)
        );
        // Never "closed" without having seen it.
        for last in [link(&same()), lost(), none()] {
            assert!(cancel(&[link(&same()), answer.clone(), last], Some(ORDER)).is_err());
        }
    }
    unavailable(&cancel(&[lost()], Some(ORDER)));
    unavailable(&cancel(
        &[link(&same()), Answer::NotSent("no route".into())],
        Some(ORDER),
    ));
    let other = link(&json!({"udf": {"udf1": "BM345A-1"}}));
    rejected(&cancel(&[other], None), "link_other_reference");
}

// ---- Refunds ----

fn ours(changes: &Value) -> Answer {
    let mut document = fixture("payu/reply_refunds.json");
    let details = &mut document["transaction_details"];
    let entry = &mut details["403993715521937565"]["131278430"];
    entry["token"] = json!(refund().token);
    entry["amt"] = json!("100.00");
    for (name, value) in changes.as_object().unwrap() {
        entry[name] = value.clone();
    }
    reply(200, &document)
}

fn of_sample() -> RefundRequest {
    RefundRequest {
        payment_id: "403993715521937565".into(),
        ..refund()
    }
}

fn back(status: RefundStatus) -> RefundReport {
    RefundReport {
        status,
        id: Some("131278430".into()),
        name: Some(refund().token),
        payment_id: "403993715521937565".into(),
        amount: Paise::new(10_000).unwrap(),
        speed: Some(Speed::Normal),
        bank_reference: None,
        error: None,
        at: None,
    }
}

#[test]
fn asking_for_a_refund() {
    let g = gateway();
    let ask = |answers: &[Answer]| play(answers, |a| g.refund(&of_sample(), a));
    let taken = RefundReport {
        id: Some("131278422".into()),
        speed: None,
        ..back(RefundStatus::Pending)
    };
    assert_eq!(
        ask(&[vendor(200, "reply_refund_queued")]),
        (vec!["refund"], Ok(taken.clone()))
    );
    // Status and codes come as numbers or text, and what is pending may call itself a failure.
    for (status, code) in [
        (json!(1), json!(102)),
        (json!("1"), json!("100")),
        (json!(1), json!(101)),
        // Accepted is accepted, whatever the code, also one that is no number.
        (json!(1), json!(777)),
        (json!("1"), json!(123)),
        (json!(1), json!("R102")),
        (json!(0), json!(226)),
        (json!(0), json!(126)),
        (json!(0), json!(127)),
    ] {
        let answer =
            json!({"status": status, "error_code": code, "msg": "x", "request_id": 131_278_422});
        assert_eq!(ask(&[reply(200, &answer)]).1, Ok(taken.clone()), "{code}");
    }
    for code in [
        103, 105, 110, 111, 113, 116, 117, 124, 128, 129, 230, 232, 233, 239, 250, 251,
    ] {
        let answer = json!({"status": 0, "error_code": code, "msg": "no"});
        rejected(&ask(&[reply(200, &answer)]).1, &code.to_string());
    }
    let wait = json!({"status": 0, "error_code": 214, "msg": "Same amount same transaction within 5 minutes"});
    assert!(matches!(
        ask(&[reply(200, &wait)]).1,
        Err(CallError::Unavailable {
            retry_after: Some(300),
            ..
        })
    ));
    for answer in [
        reply(200, &json!({"status": 0, "error_code": 120})),
        reply(200, &json!({"status": 0, "msg": "Requests limit reached"})),
        reply(429, &json!({})),
        Answer::NotSent("no route".into()),
    ] {
        unavailable(&ask(&[answer]).1);
    }
    let hash = json!({"status": 0, "msg": "Invalid Hash."});
    rejected(&ask(&[reply(200, &hash)]).1, "gateway_credentials");
    rejected(&ask(&[vendor(200, "reply_parameter_missing")]).1, "refused");
}

#[test]
fn a_short_balance_at_payu_is_not_now() {
    let g = gateway();
    let ask = |answers: &[Answer]| play(answers, |a| g.refund(&of_sample(), a));
    let short = |result: &Result<RefundReport, CallError>| {
        let obstacle = Obstacle::InsufficientBalance;
        assert!(
            matches!(result, Err(CallError::NotNow { obstacle: o, .. }) if *o == obstacle),
            "{result:?}"
        );
    };
    // A code that says that nothing was begun, with words that say why.
    let clear =
        json!({"status": 0, "error_code": 105, "msg": "Insufficient balance in your account"});
    short(&ask(&[reply(200, &clear)]).1);
    // PayU may have kept the others: it is looked first, and then asked for again under the same token.
    for (code, msg) in [
        (
            json!(225),
            "Overdraft has occurred. Kindly recheck the status tomorrow",
        ),
        (json!("225"), "FAILURE"),
        (json!(777), "Refund failed: not enough funds"),
        (Value::Null, "Merchant account balance is too low"),
    ] {
        let answer = reply(200, &json!({"status": 0, "error_code": code, "msg": msg}));
        assert_eq!(
            ask(&[answer.clone(), ours(&json!({"status": "od_hit"}))]),
            (vec!["refund", "refunds"], Ok(back(RefundStatus::Pending)))
        );
        short(&ask(&[answer.clone(), vendor(200, "reply_refunds_none")]).1);
        unknown(&ask(&[answer, lost()]).1);
    }
}

#[test]
fn a_refund_is_never_asked_for_twice_blindly() {
    let g = gateway();
    let ask = |answers: &[Answer]| play(answers, |a| g.refund(&of_sample(), a));
    let known = |code: i64| {
        reply(
            200,
            &json!({"status": 0, "error_code": code, "msg": "known"}),
        )
    };
    for doubt in [
        known(106),
        known(109),
        known(227),
        // No failure that is known to be one: confirmation wanted, "upgraded to refund", left pending, and codes of no list.
        known(104),
        known(107),
        known(123),
        known(500),
        known(777),
        reply(
            200,
            &json!({"status": 0, "error_code": "R102", "msg": "no"}),
        ),
        reply(200, &json!({})),
        reply(200, &json!({"status": 0, "msg": "Something went wrong"})),
        lost(),
        reply(500, &json!({})),
        reply(200, &json!("x")),
    ] {
        let doubt = match doubt {
            // An answer that is cut off.
            Answer::Reply(reply) if reply.body == b"\"x\"" => Answer::Reply(HttpReply {
                body: b"{\"sta".to_vec(),
                ..reply
            }),
            doubt => doubt,
        };
        assert_eq!(
            ask(&[doubt.clone(), ours(&same())]),
            (vec!["refund", "refunds"], Ok(back(RefundStatus::Processed)))
        );
        for nothing in [
            vendor(200, "reply_refunds_none"),
            vendor(200, "reply_refunds"),
            lost(),
            reply(500, &json!({})),
        ] {
            unknown(&ask(&[doubt.clone(), nothing]).1);
        }
    }
}

#[test]
fn a_refund_is_followed_by_token_or_id() {
    let g = gateway();
    let ask = |request: &RefundRequest, answer: Answer| {
        play(&[answer], |a| g.lookup_refund(request, a)).1
    };
    for (word, status) in [
        ("success", RefundStatus::Processed),
        ("SUCCESS", RefundStatus::Processed),
        ("Failure", RefundStatus::Failed),
        ("QUEUED", RefundStatus::Pending),
        ("REQUESTED", RefundStatus::Pending),
        ("IN PROGRESS", RefundStatus::Pending),
        ("PENDING", RefundStatus::Pending),
        ("od_hit", RefundStatus::Pending),
        ("anything", RefundStatus::Pending),
    ] {
        let answer = ours(&json!({"status": word}));
        assert_eq!(ask(&of_sample(), answer), Ok(Some(back(status))), "{word}");
    }
    let instant = ours(&json!({
        "refund_mode": "Instant Credit through UPI", "bank_arn": 308_239_782_136_u64
    }));
    assert_eq!(
        ask(&of_sample(), instant),
        Ok(Some(RefundReport {
            speed: Some(Speed::Instant),
            bank_reference: Some("308239782136".into()),
            ..back(RefundStatus::Processed)
        }))
    );
    let by_id = RefundRequest {
        gateway_refund_id: Some("131278422".into()),
        ..of_sample()
    };
    let found = ask(&by_id, vendor(200, "reply_refunds")).unwrap().unwrap();
    assert_eq!(
        (found.id.as_deref(), found.amount.get()),
        (Some("131278422"), 1_000)
    );
    // The capture in the vendor's sample is no refund, whatever its id.
    let capture = RefundRequest {
        gateway_refund_id: Some("131278418".into()),
        ..of_sample()
    };
    unavailable(&ask(&capture, vendor(200, "reply_refunds")));

    assert_eq!(ask(&of_sample(), vendor(200, "reply_refunds")), Ok(None));
    assert_eq!(
        ask(&of_sample(), vendor(200, "reply_refunds_none")),
        Ok(None)
    );
    unavailable(&ask(&by_id, vendor(200, "reply_refunds_none")));
    for nothing in [
        lost(),
        reply(502, &json!({})),
        reply(200, &json!({"transaction_details": []})),
        reply(200, &json!({"transaction_details": {"1": 5}})),
        ours(&json!({"amt": "ten"})),
        vendor(200, "reply_parameter_missing"),
    ] {
        unavailable(&ask(&of_sample(), nothing));
    }
}

#[test]
fn what_payu_would_refuse_about_a_refund_is_known_before() {
    let g = gateway();
    let codes = |request: RefundRequest| -> Vec<(String, &'static str)> {
        g.check_refund(&request)
            .into_iter()
            .map(|f| (f.pointer, f.code))
            .collect()
    };
    let ago = |seconds: i64| RefundRequest {
        same_amount_at: Some(refund().now.plus_seconds(-seconds)),
        ..refund()
    };
    assert_eq!(codes(refund()), []);
    assert_eq!(codes(ago(300)), []);
    assert_eq!(codes(ago(299)), [("/amount".into(), "too_soon")]);
    let instant = RefundRequest {
        speed: Speed::Instant,
        ..refund()
    };
    assert_eq!(codes(instant), [("/speed".into(), "impossible")]);
    assert!(refund().token.len() <= 23, "the longest token PayU takes");
}

// ---- Webhooks ----

fn read_hook(g: &dyn Gateway, raw: RawWebhook) -> Vec<Signal> {
    signals(g, &g.verify(raw).unwrap()).unwrap()
}

#[test]
fn the_vendors_vectors() {
    let mut tenant = payment("payment_link");
    tenant["credentials"]["salts"] = json!([SALT]);
    let g = open(&tenant);
    let vectors = fixture("payu/signatures.json");
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let id = vector["id"].as_str().unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let valid = vector["valid"].as_bool().unwrap();
        match text("kind") {
            "webhook" => {
                let verdict = g.verify(form(text("raw_body").into()));
                assert_eq!(verdict.is_ok(), valid, "{id}");
                assert_eq!(
                    sha512_hex(text("string_to_sign").as_bytes()),
                    text("expected_signature"),
                    "{id}"
                );
            }
            // No form of ours goes to PayU's checkout; the layout is held here because the response's mirrors it.
            "payment_request_hash" => {
                let of = |name: &str| vector["params"][name].as_str().unwrap_or_default();
                let message = format!(
                    "{KEY}|{}|{}|{}|{}|{}|{}||||||||||{SALT}",
                    of("txnid"),
                    of("amount"),
                    of("productinfo"),
                    of("firstname"),
                    of("email"),
                    of("udf1"),
                );
                let made = sha512_hex(message.as_bytes()) == text("expected_signature");
                assert_eq!(made, valid, "{id}");
            }
            "api_request_hash" => {
                let request = LookupRequest {
                    reference: reference(vector["params"]["var1"].as_str().unwrap()),
                    ..lookup_request(PaymentMode::PaymentGateway, None)
                };
                let call = call(g.lookup(&request, &[]));
                let body = String::from_utf8(call.body.unwrap().1).unwrap();
                let sent = body.ends_with(&format!("&hash={}", text("expected_signature")));
                assert_eq!(sent, valid, "{id}: {body}");
            }
            kind => panic!("{id}: {kind}"),
        }
    }
}

#[test]
fn both_salts_and_both_spellings_of_charges_count() {
    let g = gateway();
    for salt in ["newer", SALT] {
        assert!(g.verify(signed(salt, &[])).is_ok(), "{salt}");
    }
    for wrong in ["", "older", "newerx"] {
        assert!(g.verify(signed(wrong, &[])).is_err(), "{wrong}");
    }
    // Charges stand before the salt.
    for name in ["additionalCharges", "additional_charges"] {
        assert!(g.verify(signed("11.80|newer", &[(name, "11.80")])).is_ok());
        assert!(g.verify(signed("11.8|newer", &[(name, "11.80")])).is_err());
        assert!(g.verify(signed("newer", &[(name, "11.80")])).is_err());
        // The vendor's SDKs disagree about empty ones.
        assert!(g.verify(signed("|newer", &[(name, "")])).is_ok());
        assert!(g.verify(signed("newer", &[(name, "")])).is_ok());
    }
    assert!(g.verify(signed("|newer", &[])).is_err());
    // The merchant's own fields stand in reverse, blanks and all.
    let own = [("udf2", "till 3 "), ("udf3", "कैश"), ("udf5", "a+b&c=d%")];
    assert!(g.verify(signed(SALT, &own)).is_ok());
    // Another account's form, signed with the same salt.
    let other = signed(SALT, &[("key", "other")]);
    assert!(matches!(g.verify(other), Err(Refused::Mismatch)));
}

#[test]
fn what_is_no_signed_form_is_refused() {
    let g = gateway();
    let good = signed(SALT, &[]);
    let mut typeless = good.clone();
    typeless.headers.clear();
    assert!(matches!(g.verify(typeless), Err(Refused::Missing)));
    let mut plain = good.clone();
    plain.headers[0].1 = "text/plain".into();
    assert!(matches!(g.verify(plain), Err(Refused::Missing)));
    assert!(matches!(g.verify(form(vec![])), Err(Refused::Missing)));
    // A second value of anything the hash covers, also an equal one.
    for extra in [
        "&amount=850.00",
        "&hash=00",
        "&udf1=",
        "&additionalCharges=&additionalCharges=",
    ] {
        let mut doubled = good.clone();
        doubled.body.extend(extra.bytes());
        assert!(
            matches!(g.verify(doubled), Err(Refused::Mismatch)),
            "{extra}"
        );
    }
    // Hex in capitals, as no SDK of the vendor takes it.
    let text = String::from_utf8(good.body.clone()).unwrap();
    let (head, hash) = text.rsplit_once('=').unwrap();
    let capitals = form(format!("{head}={}", hash.to_uppercase()).into_bytes());
    assert!(matches!(g.verify(capitals), Err(Refused::Mismatch)));
}

/// Every bit of every byte that the hash covers, names and values: the form is refused.
#[test]
fn one_bit_anywhere_in_what_is_signed() {
    let g = gateway();
    let signed_names = [
        "status",
        "udf1",
        "udf5",
        "email",
        "firstname",
        "productinfo",
        "amount",
        "txnid",
        "key",
        "hash",
    ];
    let mut flips = 0;
    let changes = [("udf5", "v1"), ("email", "p@example.com")];
    let good = signed(SALT, &changes);
    let body = String::from_utf8(good.body.clone()).unwrap();
    let mut start = 0;
    for pair in body.split('&') {
        let (name, _) = pair.split_once('=').unwrap();
        if signed_names.contains(&name) {
            for at in start..start + pair.len() {
                for bit in 0..8 {
                    let mut forged = good.clone();
                    forged.body[at] ^= 1 << bit;
                    // "%2E" and "%2e" are the same byte, and so are a blank's two spellings: nothing was changed then.
                    let same = decoded(&forged.body) == decoded(&good.body);
                    assert_eq!(g.verify(forged).is_ok(), same, "bit {bit} of byte {at}");
                    flips += 1;
                }
            }
        }
        start += pair.len() + 1;
    }
    assert!(flips > 2000, "{flips}");
}

fn decoded(body: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = body
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    // Separators that are data stay apart from separators.
    spaced
        .split(|b| *b == b'&')
        .flat_map(|pair| {
            let mut pair: Vec<u8> = percent_encoding::percent_decode(pair).collect();
            pair.push(0);
            pair
        })
        .collect()
}

/// "Collect Additional Charges" and "Refunds for Offers": `amount` is what was asked for, the customer pays more or less.
#[test]
fn charges_and_offers_are_told_apart_from_the_bill() {
    let g = gateway();
    let sums = |report: &PaymentReport| {
        let paise = |amount: Option<Paise>| amount.map(Paise::get);
        (
            report.amount.get(),
            paise(report.paid_in_full),
            paise(report.fee),
            paise(report.offer),
        )
    };
    for (changes, expected) in [
        (
            json!({"additional_charges": "1.80", "net_amount_debit": "11.80"}),
            (1_180, Some(1_000), Some(180), None),
        ),
        (
            json!({"disc": "1.00", "net_amount_debit": 9}),
            (900, Some(1_000), None, Some(100)),
        ),
        (
            json!({"additional_charges": "1.80", "net_amount_debit": null}),
            (1_180, Some(1_000), Some(180), None),
        ),
        // A cashback comes later: the customer paid what was asked.
        (
            json!({"disc": "1.00", "net_amount_debit": 10}),
            (1_000, None, None, None),
        ),
    ] {
        let answers = [
            token(),
            link(&same()),
            payments(&[("403993715530075847", "success")]),
            checked(&changes),
        ];
        let (_, found) = play(&answers, |a| g.lookup(&lookup(Some(ORDER)), a));
        assert_eq!(sums(&found.unwrap().reports[0]), expected, "{changes}");
    }
    // The webhook says the same, so that the same news is not asked about twice.
    for (salt, changes, expected) in [
        (
            format!("11.80|{SALT}"),
            [
                ("additionalCharges", "11.80"),
                ("net_amount_debit", "861.80"),
            ],
            (86_180, Some(85_000), Some(1_180), None),
        ),
        (
            SALT.to_owned(),
            [("discount", "50.00"), ("net_amount_debit", "800.00")],
            (80_000, Some(85_000), None, Some(5_000)),
        ),
    ] {
        let read = read_hook(g.as_ref(), signed(&salt, &changes));
        let [Signal::Payment { report, trust, .. }] = read.as_slice() else {
            panic!("{read:?}")
        };
        assert_eq!((sums(report), trust.clone()), (expected, Trust::Hint));
    }
}

#[test]
fn a_payment_is_a_reason_to_ask() {
    let g = gateway();
    let report = PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status: AttemptStatus::Captured,
        payment_id: "403993715530000001".into(),
        amount: Paise::new(85_000).unwrap(),
        currency: "INR".into(),
        method: Some("upi".into()),
        error: None,
        at: Some(NOW.plus_seconds(60)),
    };
    let hint = |report: PaymentReport, name: &str| Signal::Payment {
        reference: reference(name),
        report,
        trust: Trust::Hint,
    };
    assert_eq!(
        read_hook(g.as_ref(), signed(SALT, &[])),
        [hint(report.clone(), "BM345A-12")]
    );
    // Without our own name PayU's has to do.
    assert_eq!(
        read_hook(g.as_ref(), signed(SALT, &[("udf1", ""), ("txnid", ORDER)])),
        [hint(report.clone(), ORDER)]
    );
    // Inside WhatsApp udf1 is the merchant's own; a link's mark is one all the same, also after the mode has changed.
    let native = open(&payment("payment_gateway"));
    for own in ["", "till-7", "a:b"] {
        assert_eq!(
            read_hook(native.as_ref(), signed(SALT, &[("udf1", own)])),
            [hint(report.clone(), "80203")]
        );
    }
    assert_eq!(
        read_hook(native.as_ref(), signed(SALT, &[])),
        [hint(report.clone(), "BM345A-12")]
    );
    // Somebody wrote our number and nothing else: it is worth a question about our own link.
    let number = [("udf1", "BM345A-12")];
    assert_eq!(
        read_hook(g.as_ref(), signed(SALT, &number)),
        [hint(report.clone(), "BM345A-12")]
    );
    for (changes, status, error) in [
        (
            vec![("unmappedstatus", "auth")],
            AttemptStatus::Authorized,
            None,
        ),
        (vec![("unmappedstatus", "")], AttemptStatus::Captured, None),
        (
            vec![("unmappedstatus", "dreaming")],
            AttemptStatus::Pending,
            None,
        ),
        (
            vec![("status", "pending"), ("unmappedstatus", "captured")],
            AttemptStatus::Pending,
            None,
        ),
        (
            vec![("status", "failure"), ("error", "E308")],
            AttemptStatus::Failed,
            Some("E308"),
        ),
        (vec![("status", "cancelled")], AttemptStatus::Failed, None),
        // What was authorised went back.
        (
            vec![("status", "pending"), ("unmappedstatus", "autoRefund")],
            AttemptStatus::Failed,
            None,
        ),
        (
            vec![("unmappedstatus", "userCancelled")],
            AttemptStatus::Failed,
            None,
        ),
        (
            vec![("unmappedstatus", "in progress")],
            AttemptStatus::Pending,
            None,
        ),
        // Over, also when it was authorised before.
        (vec![("status", "cancelled")], AttemptStatus::Failed, None),
        (
            vec![("status", "pending"), ("unmappedstatus", "dropped")],
            AttemptStatus::Failed,
            None,
        ),
        (
            vec![("status", "failure"), ("unmappedstatus", "userCancelled")],
            AttemptStatus::Failed,
            None,
        ),
        (
            vec![("unmappedstatus", "autoRefund")],
            AttemptStatus::Failed,
            None,
        ),
    ] {
        let expected = PaymentReport {
            paid_in_full: None,
            fee: None,
            offer: None,
            status,
            error: error.map(str::to_owned),
            ..report.clone()
        };
        assert_eq!(
            read_hook(g.as_ref(), signed(SALT, &changes)),
            [hint(expected, "BM345A-12")]
        );
    }
    for broken in [("amount", "850.001"), ("mihpayid", "x"), ("status", "")] {
        let verified = g.verify(signed(SALT, &[broken])).unwrap();
        assert!(g.read(&verified).is_err(), "{broken:?}");
    }
}

#[test]
fn a_refund_callback_needs_the_token_of_its_address() {
    let mut document = fixture("payu/hook_refund_success.json");
    document["key"] = json!(KEY);
    let hook = |token: Option<&str>| RawWebhook {
        query: token
            .iter()
            .map(|t| ("token".into(), (*t).into()))
            .collect(),
        ..callback(&document)
    };
    let g = gateway();
    assert!(g.verify(hook(Some(TOKEN))).is_ok());
    assert!(matches!(g.verify(hook(None)), Err(Refused::Missing)));
    let wrong = g.verify(hook(Some("token-of-the-addresS")));
    assert!(matches!(wrong, Err(Refused::Mismatch)));
    // A tenant that has none hears no refund callbacks, whatever they bring.
    let mut without = payment("payment_link");
    let credentials = without["credentials"].as_object_mut().unwrap();
    credentials.remove("callback_token");
    let g = open(&without);
    for token in ["", TOKEN] {
        let refused = g.verify(hook(Some(token)));
        assert!(matches!(refused, Err(Refused::Mismatch)), "{token}");
    }
    // What is signed needs no token.
    assert!(g.verify(signed(SALT, &[])).is_ok());
    let mut short = payment("payment_link");
    short["credentials"]["callback_token"] = json!("fifteen letters");
    let faults = chatbill_gateways::open(&tenant(&short)).err().unwrap();
    let named: Vec<&str> = faults.iter().map(|f| f.pointer.as_str()).collect();
    assert_eq!(named, ["/payment/credentials/callback_token"]);
}

/// PayU tells every address of an account of every payment: of other tenants' bills of the same number, and of a web shop's orders.
#[test]
fn a_payment_of_somebody_else_is_counted_and_no_more() {
    let g = gateway();
    let theirs = udf1_of("bazaar", "BM345A-12");
    let their_number = number_of("bazaar", "BM345A-12");
    for changes in [
        vec![("udf1", theirs.as_str())],
        vec![("udf1", theirs.as_str()), ("txnid", ORDER)],
        vec![("udf1", ""), ("txnid", their_number.as_str())],
        vec![("udf1", ""), ("txnid", "BM345A-12")],
        vec![("udf1", "no bill"), ("txnid", "also none")],
    ] {
        let heard = read_hook(g.as_ref(), signed(SALT, &changes));
        assert!(
            matches!(heard.as_slice(), [Signal::Foreign(_)]),
            "{changes:?}: {heard:?}"
        );
    }
}

// Field report B15.
#[test]
fn a_payment_is_read_from_json_as_from_a_form() {
    let g = gateway();
    let fields = hashed(SALT, &[("firstname", "P\u{e4}lla/vi \"P\"")]);
    let document: Value = fields.iter().map(|(n, v)| (n.clone(), json!(v))).collect();
    let expected = read_hook(g.as_ref(), signed(SALT, &[]));
    assert_eq!(read_hook(g.as_ref(), callback(&document)), expected);
    // The hash is all it needs. A number counts as it is written; null is nothing; escapes are not part of a text.
    let mut odd = callback(&document);
    odd.query.clear();
    odd.body = document
        .to_string()
        .replace("\"850.00\"", "850.00")
        .replace("\"email\":\"\"", "\"email\":null")
        .replace("P\u{e4}lla/vi", "P\\u00e4lla\\/vi")
        .into_bytes();
    assert_eq!(read_hook(g.as_ref(), odd), expected);
    // Another amount, another account, another bill, a wrong hash.
    for (name, value) in [
        ("amount", json!("850.0")),
        ("amount", json!(850)),
        ("key", json!("other")),
        ("udf1", json!("BM345A-13")),
        ("hash", json!("00")),
        ("hash", json!("")),
    ] {
        let mut wrong = document.clone();
        wrong[name] = value;
        assert!(
            matches!(g.verify(callback(&wrong)), Err(Refused::Mismatch)),
            "{name}"
        );
    }
    let mut twice = callback(&document);
    twice.body.pop();
    twice.body.extend(b",\"amount\":\"850.00\"}");
    assert!(matches!(g.verify(twice), Err(Refused::Mismatch)));
    // Without a hash it is nobody's word, and cut off it is nothing.
    let mut unsigned = document.clone();
    unsigned.as_object_mut().unwrap().remove("hash");
    let heard = read_hook(g.as_ref(), callback(&unsigned));
    assert!(
        matches!(heard.as_slice(), [Signal::Ignored(_)]),
        "{heard:?}"
    );
    let mut cut = callback(&document);
    cut.body.pop();
    assert!(g.verify(cut).is_err());
}

/// "Payment Links", webhooks: the hash of a link's payment is made with the client secret; older pages have the salt.
#[test]
fn a_link_hashed_with_the_client_secret_is_a_hint() {
    let g = gateway();
    let heard = read_hook(g.as_ref(), signed("s3cret", &[]));
    assert_eq!(heard, read_hook(g.as_ref(), signed(SALT, &[])));
    assert!(heard.iter().all(is_hint));
    assert!(g.verify(signed("another", &[])).is_err());
}

#[test]
fn a_refund_callback_is_never_more_than_a_hint() {
    // Its number is that of a payment inside WhatsApp.
    let mut tenant = payment("payment_gateway");
    tenant["credentials"]["key"] = json!("lF76TH");
    let g = open(&tenant);
    let document = fixture("payu/hook_refund_success.json");
    let verified = g.verify(callback(&document)).unwrap();
    assert!(!verified.is_signed());
    assert_eq!(
        signals(g.as_ref(), &verified).unwrap(),
        [Signal::Refund {
            reference: reference("ORDER_33172661_1679394745"),
            report: RefundReport {
                status: RefundStatus::Processed,
                id: Some("11865427756".into()),
                name: Some("DG0036362".into()),
                payment_id: "17025521702".into(),
                amount: Paise::new(14_900).unwrap(),
                speed: Some(Speed::Instant),
                bank_reference: Some("308239782136".into()),
                error: None,
                at: None,
            },
            trust: Trust::Hint,
        }]
    );
    // A payment in it stays unread: without a hash it is nobody's word.
    let mut forged = document.clone();
    forged["action"] = json!("payment");
    forged["udf1"] = json!("BM345A-12");
    assert!(matches!(
        read_hook(g.as_ref(), callback(&forged)).as_slice(),
        [Signal::Ignored(_)]
    ));
    let mut nameless = document.clone();
    nameless["merchantTxnId"] = Value::Null;
    assert!(matches!(
        read_hook(g.as_ref(), callback(&nameless)).as_slice(),
        [Signal::Foreign(_)]
    ));
    // Of links, one that has our own name of it; a web shop's number is nobody's here.
    let mut links = payment("payment_link");
    links["credentials"]["key"] = json!("lF76TH");
    let links = open(&links);
    let heard = read_hook(links.as_ref(), callback(&document));
    assert!(matches!(heard.as_slice(), [Signal::Foreign(_)]));
    let mut of_link = document.clone();
    of_link["merchantTxnId"] = json!(ORDER);
    assert!(matches!(
        read_hook(links.as_ref(), callback(&of_link)).as_slice(),
        [Signal::Refund { reference, trust: Trust::Hint, .. }] if reference.as_str() == ORDER
    ));
    let mut broken = document;
    broken["amt"] = json!("a lot");
    assert!(g.read(&g.verify(callback(&broken)).unwrap()).is_err());

    // Not our key, no key, no JSON.
    let other = callback(&fixture("payu/hook_refund_failure.json"));
    assert!(matches!(g.verify(other), Err(Refused::Mismatch)));
    assert!(matches!(
        g.verify(callback(&json!({"action": "refund"}))),
        Err(Refused::Missing)
    ));
    let mut cut = callback(&json!({"key": "lF76TH"}));
    cut.body.pop();
    assert!(matches!(g.verify(cut), Err(Refused::Mismatch)));

    // The failure, with blanks around a number.
    let mut tenant = payment("payment_gateway");
    tenant["credentials"]["key"] = json!("IahMJL");
    let g = open(&tenant);
    let failed =
        callback(&serde_json::from_slice(&bytes("payu/hook_refund_failure.json")).unwrap());
    match read_hook(g.as_ref(), failed).as_slice() {
        [
            Signal::Refund {
                report,
                trust: Trust::Hint,
                ..
            },
        ] => assert_eq!(
            (report.status, report.payment_id.as_str()),
            (RefundStatus::Failed, "23907365951")
        ),
        other => panic!("{other:?}"),
    }
}

fn is_hint(signal: &Signal) -> bool {
    match signal {
        Signal::Payment { trust, .. } | Signal::Refund { trust, .. } => *trust == Trust::Hint,
        Signal::Ignored(_) => true,
        Signal::Foreign(_) | Signal::Noticed(..) => true,
        _ => false,
    }
}

proptest! {
    /// Whatever comes: no panic, and nothing unsigned is believed.
    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..300), json in any::<bool>()) {
        let g = gateway();
        let mut raw = form(body);
        if json {
            raw.headers[0].1 = "application/json".into();
        }
        if let Ok(verified) = g.verify(raw) {
            prop_assert!(!verified.is_signed());
        }
    }

    /// Rightly signed forms of any values are read or refused in words.
    #[test]
    fn any_signed_values_are_survived(values in prop::collection::vec((0..9_usize, ".{0,40}"), 0..9)) {
        const NAMES: [&str; 9] =
            ["mihpayid", "mode", "status", "unmappedstatus", "amount", "txnid", "addedon", "udf1", "error"];
        let g = gateway();
        let mut changes: Vec<(&str, &str)> = Vec::new();
        for (index, value) in &values {
            changes.retain(|(name, _)| *name != NAMES[*index]);
            changes.push((NAMES[*index], value));
        }
        let verified = g.verify(signed(SALT, &changes));
        prop_assert!(verified.is_ok());
        if let Ok(signals) = signals(g.as_ref(), &verified.unwrap()) {
            prop_assert!(signals.iter().all(is_hint));
        }
    }

    /// A callback of any values is a hint or nothing.
    #[test]
    fn any_callback_is_survived(values in prop::collection::vec((0..8_usize, ".{0,30}"), 0..8)) {
        const NAMES: [&str; 8] =
            ["action", "status", "mihpayid", "request_id", "merchantTxnId", "amt", "token", "bank_arn"];
        let g = gateway();
        let mut document = fixture("payu/hook_refund_success.json");
        document["key"] = json!(KEY);
        for (index, value) in values {
            document[NAMES[index]] = json!(value);
        }
        let verified = g.verify(callback(&document)).unwrap();
        if let Ok(signals) = signals(g.as_ref(), &verified) {
            prop_assert!(signals.iter().all(is_hint));
        }
    }

    /// Two references never share an invoice number.
    #[test]
    fn spellings_differ(a in "[A-Za-z0-9_.-]{1,35}", b in "[A-Za-z0-9_.-]{1,35}") {
        let g = gateway();
        if let (Ok(a), Ok(b)) = (ReferenceId::parse(a), ReferenceId::parse(b)) {
            prop_assert_eq!(g.order_id(&a) == g.order_id(&b), a == b);
        }
    }
}

#[test]
fn the_bill_is_one_of_the_builders() {
    // What the constants above speak of.
    assert_eq!(bill().reference.as_str(), "BM345A-12");
    assert_eq!(text(&link(&same()))["result"]["totalAmount"], 850);
}

#[test]
fn half_a_character_does_not_cost_the_refund() {
    let mut document = fixture("payu/hook_refund_success.json");
    document["key"] = json!(KEY);
    let document = document.to_string();
    let (before, after) = document.split_once('{').unwrap();
    let mut raw = callback(&json!({}));
    raw.body = format!(r#"{before}{{"note":"\uDF89 \uD83C",{after}"#).into_bytes();
    let g = open(&payment("payment_gateway"));
    let verified = g.verify(raw).unwrap();
    let heard = g.read(&verified).unwrap();
    assert!(
        matches!(heard.as_slice(), [Signal::Refund { .. }]),
        "{heard:?}"
    );
}
