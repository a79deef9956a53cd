//! BillDesk.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chatbill_domain::connector::{Gateway, Signal, Trust};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, MAX_CALLS, Obstacle, Step};
use chatbill_domain::ids::{ReferenceId, TenantId};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Found, LookupRequest, PayForm, PaymentMode, PaymentReport,
    PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::proof::BillProofs;
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use chatbill_testkit::builders::{bill_with, lookup_request, payment_request, refund_request};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Probe, fixture, lost, read, tenant, with};

const KEY: &str = "hmacDemoKeyForTests0000000000001";
const ENCRYPTION_KEY: &str = "encDemoKey-32-bytes-exactly-0001";
const REFERENCE: &str = "BM345A12";
/// What BillDesk calls that bill of acme.
const ORDER: &str = "BM345A12COPJLDKGKIOWU5AM";

fn proofs_of(of: &str) -> BillProofs {
    let secrets = vec!["0123456789abcdef".into()];
    BillProofs::new(TenantId::parse(of).unwrap(), secrets)
}

/// The mark of a bill.
fn mark_of(of: &str, bill: &str) -> String {
    let bill = reference(bill);
    format!("{bill}:{}", proofs_of(of).named_mark(&bill).unwrap())
}

/// What BillDesk calls a bill of another tenant.
fn order_of(of: &str, bill: &str) -> String {
    let mut document = tenant(&payment("payment_link", "hmac"));
    document.payment.proofs = proofs_of(of);
    let g = chatbill_gateways::open(&document).unwrap();
    g.order_id(&reference(bill)).into()
}
const NAMED: &str = "2026-11-22T05:31:07+05:30";

fn payment(mode: &str, security: &str) -> Value {
    let mut credentials = json!({
        "merchant_id": "BDMERCID", "client_id": "bdmerc1", "security": security, "signing_key": KEY,
        "vpa": "billdesk@hdfcbank", "merchant_category": "5411", "merchant_name": "Acme Stores",
    });
    if security == "jose" {
        credentials["signing_key_id"] = json!("sigKid1");
        credentials["encryption_key"] = json!(ENCRYPTION_KEY);
        credentials["encryption_key_id"] = json!("encKid1");
    }
    json!({"mode": mode, "gateway": "billdesk", "configuration_name": "shop-billdesk", "credentials": credentials})
}

fn open(mode: &str, security: &str) -> Box<dyn Gateway> {
    chatbill_gateways::open(&tenant(&payment(mode, security))).unwrap()
}

fn links() -> Box<dyn Gateway> {
    open("payment_link", "hmac")
}

fn intents() -> Box<dyn Gateway> {
    open("upi_intent", "hmac")
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn token_of(header: &Value, payload: &[u8], key: &str) -> String {
    let input = format!("{}.{}", encode(header.to_string()), encode(payload));
    let signature = encode(hmac_sha256(key.as_bytes(), input.as_bytes()));
    format!("{input}.{signature}")
}

fn token(payload: &Value) -> String {
    let header = json!({"alg": "HS256", "clientid": "bdmerc1"});
    token_of(&header, payload.to_string().as_bytes(), KEY)
}

fn posted(body: impl Into<Vec<u8>>) -> RawWebhook {
    RawWebhook {
        headers: vec![("content-type".into(), "application/jose".into())],
        query: vec![],
        body: body.into(),
    }
}

fn plain(status: u16, body: &str) -> Answer {
    Answer::Reply(HttpReply {
        status,
        retry_after: None,
        body: body.as_bytes().to_vec(),
    })
}

fn said(status: u16, payload: &Value) -> Answer {
    plain(status, &token(payload))
}

fn denied(status: u16, code: &str, message: &str) -> Answer {
    said(
        status,
        &json!({"status": status, "error_type": "invalid_data_error", "error_code": code, "message": message}),
    )
}

fn unknown_to_billdesk() -> Answer {
    denied(404, "TRNNF0001", "Transaction not found")
}

/// A transaction of [`request`], as the documents show one.
fn transaction(changes: &Value) -> Value {
    let sample = with(
        &fixture("billdesk/reply_create_transaction.json"),
        &json!({
            "orderid": ORDER, "amount": "850.00", "charge_amount": "862.50", "surcharge": "12.50",
            "transaction_date": NAMED, "wa_txnid": REFERENCE,
            "additional_info": {"additional_info7": mark_of("acme", REFERENCE)},
            "intent": null,
        }),
    );
    with(&sample, changes)
}

fn same() -> Value {
    json!({})
}

fn status(code: &str) -> Value {
    transaction(&json!({"auth_status": code}))
}

fn report(status: AttemptStatus) -> PaymentReport {
    // The customer's surcharge counts once it is taken.
    let surcharge = (status == AttemptStatus::Captured).then(|| Paise::new(1_250).unwrap());
    let bill = Paise::new(85_000).unwrap();
    PaymentReport {
        paid_in_full: surcharge.map(|_| bill),
        fee: surcharge,
        offer: None,
        status,
        payment_id: "X7890477676443".into(),
        amount: surcharge.map_or(bill, |surcharge| bill.checked_add(surcharge).unwrap()),
        currency: "INR".into(),
        method: Some("upi".into()),
        error: (status == AttemptStatus::Failed).then(|| "TRP0000".into()),
        at: None,
    }
}

fn reference(text: &str) -> ReferenceId {
    ReferenceId::parse(text).unwrap()
}

fn request(mode: PaymentMode) -> PaymentRequest {
    let extras = json!({"additional_info1": "counter 3", "additional_info7": "theirs"});
    PaymentRequest {
        reference: reference(REFERENCE),
        order_id: ORDER.into(),
        bill: bill_with(|bill| {
            for (name, value) in extras.as_object().unwrap() {
                bill[name] = value.clone();
            }
        }),
        ..payment_request(mode)
    }
}

fn link_request() -> PaymentRequest {
    request(PaymentMode::PaymentLink)
}

fn intent_request() -> PaymentRequest {
    request(PaymentMode::UpiIntent)
}

fn lookup(mode: PaymentMode, gateway_id: Option<&str>) -> LookupRequest {
    LookupRequest {
        reference: reference(REFERENCE),
        order_id: ORDER.into(),
        ..lookup_request(mode, gateway_id)
    }
}

fn refund_of(mode: PaymentMode) -> RefundRequest {
    RefundRequest {
        reference: reference(REFERENCE),
        order_id: ORDER.into(),
        ..refund_request(mode, "X7890477676443")
    }
}

/// "Create Order", response.
fn order(name: &str, changes: &Value) -> Value {
    let order = json!({
        "objectid": "order", "orderid": name, "bdorderid": "OAHG06WL7CRT0N", "mercid": "BDMERCID",
        "amount": "850.00", "currency": "356", "next_step": "redirect", "status": "ACTIVE",
        "links": [
            {"href": "https://www.billdesk.com/pgi/orders/OAHG06WL7CRT0N", "rel": "self", "method": "GET"},
            {"href": "https://api.billdesk.com/web/v1_2/embeddedsdk", "rel": "redirect", "method": "POST",
             "parameters": {"mercid": "BDMERCID", "bdorderid": "OAHG06WL7CRT0N", "rdata": "c2VjcmV0.x+y/z="},
             "valid_date": "2026-11-22T06:01:07+05:30", "headers": {"authorization": "OToken abc"}},
        ],
    });
    with(&order, changes)
}

fn intent(text: &str) -> Value {
    transaction(&json!({"intent": STANDARD.encode(text)}))
}

const INTENT: &str = "upi://pay?pa=billdesk@hdfcbank&pn=Acme%20Stores&mc=5411&tr=XHD50477676443&tn=Pay&am=850.00&mam=850.00&cu=INR";

fn answers(name: &str) -> Started {
    Started {
        id: name.into(),
        link: link_request().pay_url,
        expires_at: link_request().expires_at,
        extra: Some(
            json!({"href": "https://api.billdesk.com/web/v1_2/embeddedsdk",
                "fields": {"bdorderid": "OAHG06WL7CRT0N", "mercid": "BDMERCID", "rdata": "c2VjcmV0.x+y/z="}})
            .to_string(),
        ),
    }
}

fn shown_intent() -> Started {
    Started {
        id: "X7890477676443".into(),
        link: INTENT.into(),
        expires_at: intent_request().expires_at,
        extra: None,
    }
}

pub(crate) fn probe() -> Probe {
    Probe {
        tenant: tenant(&payment("payment_link", "hmac")),
        webhook: posted(token(&status("0300"))),
        unsigned: posted(status("0300").to_string()),
        calls: &[
            "create_order",
            "create_transaction",
            "retrieve_transaction",
            "create_refund",
            "retrieve_refund",
        ],
    }
}

/// Plays a conversation to its end; gives the calls made as well.
fn play<T: std::fmt::Debug>(
    answers: &[Answer],
    next: impl Fn(&[Answer]) -> Step<T>,
) -> (Vec<HttpCall>, Result<T, CallError>) {
    let mut calls = Vec::new();
    for given in 0..=answers.len() {
        match next(&answers[..given]) {
            Step::Done(result) => {
                assert_eq!(
                    given,
                    answers.len(),
                    "not all answers were wanted: {result:?}"
                );
                assert!(given <= MAX_CALLS);
                return (calls, result);
            }
            Step::Call(call) => calls.push(*call),
        }
    }
    panic!("after {calls:?} it wants another answer");
}

fn labels(calls: &[HttpCall]) -> Vec<&str> {
    let short = |call: &HttpCall| call.label.strip_prefix("billdesk.").unwrap();
    calls.iter().map(short).collect()
}

fn call<T: std::fmt::Debug>(step: Step<T>) -> HttpCall {
    match step {
        Step::Call(call) => *call,
        Step::Done(result) => panic!("no call but {result:?}"),
    }
}

fn header<'a>(call: &'a HttpCall, name: &str) -> &'a str {
    let found = call.headers.iter().find(|(n, _)| *n == name);
    &found.unwrap().1
}

/// What a call says, its signature checked.
fn payload(call: &HttpCall) -> Value {
    let (kind, body) = call.body.as_ref().unwrap();
    assert_eq!(kind, "application/jose");
    let token = String::from_utf8(body.clone()).unwrap();
    let (input, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(
        signature,
        encode(hmac_sha256(KEY.as_bytes(), input.as_bytes()))
    );
    serde_json::from_slice(&decode(input.split_once('.').unwrap().1)).unwrap()
}

fn shown(call: &HttpCall) -> Value {
    let token = String::from_utf8(call.body.as_ref().unwrap().1.clone()).unwrap();
    let protected: Value =
        serde_json::from_slice(&decode(token.split('.').next().unwrap())).unwrap();
    assert!(call.authorization.is_none() && call.secret_header.is_none());
    json!({
        "label": call.label,
        "method": call.method.as_str(),
        "url": call.url,
        "headers": call.headers,
        "protected": protected,
        "payload": payload(call),
    })
}

#[test]
fn the_calls() {
    let (link, intent) = (links(), intents());
    insta::assert_json_snapshot!(
        "create_order",
        shown(&call(link.start(&link_request(), &[])))
    );
    insta::assert_json_snapshot!(
        "create_transaction",
        shown(&call(intent.start(&intent_request(), &[])))
    );
    let asked = lookup(PaymentMode::PaymentLink, Some(ORDER));
    insta::assert_json_snapshot!(
        "retrieve_transaction",
        shown(&call(link.lookup(&asked, &[])))
    );
    let paid = said(200, &status("0300"));
    let refund = refund_of(PaymentMode::PaymentLink);
    insta::assert_json_snapshot!("create_refund", shown(&call(link.refund(&refund, &[paid]))));
    insta::assert_json_snapshot!(
        "retrieve_refund",
        shown(&call(link.lookup_refund(&refund, &[])))
    );
}

/// What Meta's guide sends, ours sends: the same fields, apart from the optional bank and our own address for the report.
#[test]
fn the_intent_request_has_the_fields_of_the_guide() {
    let ours = payload(&call(intents().start(&intent_request(), &[])));
    let sample = fixture("billdesk/request_create_transaction.json");
    let names = |document: &Value| -> Vec<String> {
        document.as_object().unwrap().keys().cloned().collect()
    };
    let mut wanted = names(&sample);
    wanted.retain(|name| name != "bankid");
    let mut had = names(&ours);
    had.retain(|name| name != "ru");
    assert_eq!(had, wanted);
    assert_eq!(names(&ours["device"]), names(&sample["device"]));
    for name in [
        "currency",
        "txn_process_type",
        "payment_method_type",
        "itemcode",
    ] {
        assert_eq!(ours[name], sample[name]);
    }

    let mut settings = payment("upi_intent", "hmac");
    settings["credentials"]["bank_id"] = json!("ICW");
    settings["credentials"]["item_code"] = json!("SHOP");
    settings["credentials"]["callback_token"] = json!("a token & more =?#");
    settings["base_url"] = json!("https://uat1.billdesk.com/u2/");
    let other = chatbill_gateways::open(&tenant(&settings)).unwrap();
    let made = call(other.start(&intent_request(), &[]));
    assert_eq!(
        made.url,
        "https://uat1.billdesk.com/u2/payments/ve1_2/transactions/create"
    );
    assert_eq!(
        (&payload(&made)["bankid"], &payload(&made)["itemcode"]),
        (&json!("ICW"), &json!("SHOP"))
    );
    // Where it reports to is the address with the tenant's token.
    let plain = ours["ru"].as_str().unwrap();
    let with_token = format!("{plain}?token=a%20token%20%26%20more%20%3D%3F%23");
    assert_eq!(payload(&made)["ru"], with_token);
}

#[test]
fn every_call_has_a_trace_of_its_own_but_a_refund_keeps_its() {
    let g = links();
    let trace = |call: &HttpCall| {
        let trace = header(call, "BD-Traceid").to_owned();
        assert!(trace.len() <= 35 && trace.bytes().all(|b| b.is_ascii_alphanumeric()));
        trace
    };
    let later = PaymentRequest {
        now: link_request().now.plus(1),
        ..link_request()
    };
    let first = call(g.start(&link_request(), &[]));
    let again = call(g.start(&link_request(), &[lost()]));
    let next = call(g.start(&later, &[]));
    let traces = [trace(&first), trace(&again), trace(&next)];
    assert!(traces[0] != traces[1] && traces[0] != traces[2] && traces[1] != traces[2]);

    // A cancellation is followed by a lookup of the same payment in the same moment.
    let asked = lookup(PaymentMode::PaymentLink, Some(ORDER));
    assert_ne!(
        trace(&call(g.cancel(&asked, &[]))),
        trace(&call(g.lookup(&asked, &[])))
    );

    let paid = || said(200, &status("0300"));
    let refund = refund_of(PaymentMode::PaymentLink);
    let next_day = RefundRequest {
        now: refund.now.plus_seconds(80_000),
        ..refund.clone()
    };
    let other = RefundRequest {
        token: "othertoken".into(),
        ..refund.clone()
    };
    let traces =
        [&refund, &next_day, &other].map(|request| trace(&call(g.refund(request, &[paid()]))));
    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[0], traces[2]);
    assert_ne!(
        trace(&call(g.lookup_refund(&refund, &[]))),
        trace(&call(g.lookup_refund(&next_day, &[])))
    );
}

#[test]
fn the_time_is_written_in_india() {
    // 2026-11-22T00:00:00Z
    let made = call(links().start(&link_request(), &[]));
    assert_eq!(header(&made, "BD-Timestamp"), "20261122053000");
    assert_eq!(payload(&made)["order_date"], "2026-11-22T05:30:00+05:30");
}

#[test]
fn requests_are_encrypted_where_that_is_agreed_on() {
    let g = open("payment_link", "jose");
    let made = call(g.start(&link_request(), &[]));
    let body = String::from_utf8(made.body.unwrap().1).unwrap();
    let outer: Value = serde_json::from_slice(&decode(body.split('.').next().unwrap())).unwrap();
    assert_eq!(
        outer,
        json!({"alg": "HS256", "clientid": "bdmerc1", "kid": "sigKid1"})
    );
    let inner = String::from_utf8(decode(body.split('.').nth(1).unwrap())).unwrap();
    let parts: Vec<&str> = inner.split('.').collect();
    let protected: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    assert_eq!(
        protected,
        json!({"alg": "dir", "clientid": "bdmerc1", "enc": "A256GCM", "kid": "encKid1"})
    );
    assert_eq!(
        (
            parts.len(),
            parts[1],
            decode(parts[2]).len(),
            decode(parts[4]).len()
        ),
        (5, "", 12, 16)
    );
    assert!(!body.contains("BM345A12"));
    // The same token is what BillDesk would send: it opens.
    assert!(g.verify(posted(body)).is_ok());
}

#[test]
fn the_vectors_have_the_verdicts_of_the_library_that_made_them() {
    let vectors = fixture("billdesk/signatures.json");
    let mut seen = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let mut settings = payment("payment_link", text("mode"));
        settings["credentials"]["signing_key"] = json!(text("signing_key"));
        let g = chatbill_gateways::open(&tenant(&settings)).unwrap();
        let verdict = g.verify(RawWebhook {
            headers: vec![("content-type".into(), text("content_type").into())],
            query: vec![],
            body: text("raw_body").into(),
        });
        match vector["valid"].as_bool().unwrap() {
            true => {
                let verified = verdict.unwrap_or_else(|e| panic!("{}: {e}", vector["id"]));
                assert_eq!(
                    std::str::from_utf8(verified.body()).unwrap(),
                    text("expected_payload")
                );
                // They carry no mark of ours and no number of our making.
                let signals = g.read(&verified).unwrap();
                assert!(matches!(&signals[..], [Signal::Foreign(_)]), "{signals:?}");
                // Inside WhatsApp the number may be a message's, so BillDesk is asked.
                settings["mode"] = json!("payment_gateway");
                let native = chatbill_gateways::open(&tenant(&settings)).unwrap();
                let signals = native.read(&verified).unwrap();
                assert!(
                    matches!(&signals[..], [Signal::Payment { reference, trust: Trust::Hint, .. }] if reference.as_str() == "INV20250001x1"),
                    "{signals:?}"
                );
            }
            false => assert_eq!(verdict.unwrap_err(), Refused::Mismatch, "{}", vector["id"]),
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
}

fn genuine(security: &str) -> String {
    let vectors = fixture("billdesk/signatures.json");
    let wanted = if security == "jose" {
        "bd-s03"
    } else {
        "bd-s01"
    };
    let list = vectors["vectors"].as_array().unwrap();
    let vector = list.iter().find(|v| v["id"] == wanted).unwrap();
    vector["raw_body"].as_str().unwrap().to_owned()
}

#[test]
fn one_changed_byte_anywhere_is_refused() {
    for security in ["hmac", "jose"] {
        let g = open("payment_link", security);
        let genuine = genuine(security);
        assert!(g.verify(posted(genuine.clone())).is_ok());
        for at in 0..genuine.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128] {
                let mut body = genuine.clone().into_bytes();
                body[at] ^= flip;
                assert!(
                    g.verify(posted(body)).is_err(),
                    "{security}: byte {at}, {flip}"
                );
            }
        }
        for cut in 0..genuine.len() {
            assert!(
                g.verify(posted(&genuine.as_bytes()[..cut])).is_err(),
                "{security}: cut at {cut}"
            );
        }
        for more in ["A", ".", "=", "\n", " ", "&x=y"] {
            assert!(
                g.verify(posted(format!("{genuine}{more}"))).is_err(),
                "{more:?}"
            );
            assert!(
                g.verify(posted(format!("{more}{genuine}"))).is_err(),
                "{more:?}"
            );
        }
    }
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let g = links();
    let payload = status("0300").to_string();
    for protected in [
        json!({"alg": "none"}),
        json!({"alg": "hs256"}),
        json!({"alg": "HS384"}),
        json!({"alg": "HS512"}),
        json!({"alg": "RS256"}),
        json!({"alg": "dir", "enc": "A256GCM"}),
        json!({"alg": ["HS256"]}),
        json!({"clientid": "bdmerc1"}),
        json!({"alg": "HS256", "crit": ["exp"], "exp": 1}),
        json!({"alg": "HS256", "b64": false}),
        json!(["HS256"]),
        json!("HS256"),
    ] {
        // Signed with the right key all the same.
        let token = token_of(&protected, payload.as_bytes(), KEY);
        assert_eq!(
            g.verify(posted(token)).unwrap_err(),
            Refused::Mismatch,
            "{protected}"
        );
    }
    // An encrypted token where only a signature was agreed on is opened by nobody.
    let sealed = genuine("jose");
    let verified = g.verify(posted(sealed)).unwrap();
    assert!(g.read(&verified).is_err());

    let encrypted = open("payment_link", "jose");
    let genuine = genuine("jose");
    let inner = String::from_utf8(decode(genuine.split('.').nth(1).unwrap())).unwrap();
    let parts: Vec<String> = inner.split('.').map(str::to_owned).collect();
    let mut tries: Vec<Vec<String>> = [
        json!({"alg": "A256KW", "enc": "A256GCM"}),
        json!({"alg": "RSA-OAEP-256", "enc": "A256GCM"}),
        json!({"alg": "dir", "enc": "A128GCM"}),
        json!({"alg": "dir", "enc": "A256CBC-HS512"}),
        json!({"alg": "dir"}),
        json!({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}),
        json!({"alg": "dir", "enc": "A256GCM", "crit": ["x"], "x": 1}),
        // The same algorithms in another spelling: the header is what the tag covers.
        json!({"alg": "dir", "enc": "A256GCM"}),
    ]
    .iter()
    .map(|header| {
        let mut parts = parts.clone();
        parts[0] = encode(header.to_string());
        parts
    })
    .collect();
    let change = |at: usize, to: String| {
        let mut parts = parts.clone();
        parts[at] = to;
        parts
    };
    tries.push(change(1, encode("key")));
    tries.push(change(2, encode([0; 12])));
    tries.push(change(2, encode([0; 16])));
    tries.push(change(2, String::new()));
    tries.push(change(3, String::new()));
    tries.push(change(4, encode([0; 16])));
    tries.push(change(4, encode(&decode(&parts[4])[..12])));
    tries.push(parts[..4].to_vec());
    let outer = json!({"alg": "HS256", "kid": "sigKid1"});
    for parts in tries {
        let token = token_of(&outer, parts.join(".").as_bytes(), KEY);
        assert_eq!(
            encrypted.verify(posted(token)).unwrap_err(),
            Refused::Mismatch,
            "{parts:?}"
        );
    }
    let same = token_of(&outer, inner.as_bytes(), KEY);
    assert!(encrypted.verify(posted(same)).is_ok());
}

#[test]
fn the_previous_keys_still_open_what_was_sent() {
    let mut settings = payment("payment_link", "jose");
    settings["credentials"]["signing_key"] = json!(["newer", KEY]);
    settings["credentials"]["encryption_key"] =
        json!(["newKey-32-bytes-exactly-00000002", ENCRYPTION_KEY]);
    let g = chatbill_gateways::open(&tenant(&settings)).unwrap();
    assert!(g.verify(posted(genuine("jose"))).is_ok());
    // Requests are made with the current ones.
    let made = call(g.start(&link_request(), &[]));
    let body = String::from_utf8(made.body.unwrap().1).unwrap();
    assert!(open("payment_link", "jose").verify(posted(body)).is_err());
}

#[test]
fn forms_carry_the_token_in_one_field() {
    let g = links();
    let token = token(&status("0300"));
    for good in [
        format!("transaction_response={token}"),
        format!("encrypted_response={token}&orderid=BM345A12&mercid=BDMERCID"),
        format!(
            "orderid=BM345A12&terminal_state=Y&transaction_response={}",
            token.replace('.', "%2E")
        ),
    ] {
        assert!(g.verify(posted(good.clone())).is_ok(), "{good}");
    }
    for (bad, refused) in [
        (
            "status=cancelled&message=User%20left&orderid=BM345A12".to_owned(),
            Refused::Missing,
        ),
        (String::new(), Refused::Missing),
        ("{\"auth_status\":\"0300\"}".to_owned(), Refused::Missing),
        ("transaction_response=".to_owned(), Refused::Mismatch),
        (
            format!("transaction_response={token}&transaction_response={token}"),
            Refused::Missing,
        ),
        (
            format!("transaction_response={token}&encrypted_response={token}"),
            Refused::Missing,
        ),
        (format!("transaction_response={token}+"), Refused::Mismatch),
        (format!("transaction_response=%FF{token}"), Refused::Missing),
    ] {
        assert_eq!(g.verify(posted(bad.clone())).unwrap_err(), refused, "{bad}");
    }
}

fn heard(g: &dyn Gateway, document: &Value) -> Signal {
    let verified = g.verify(posted(token(document))).unwrap();
    let mut signals = g.read(&verified).unwrap();
    assert_eq!(signals.len(), 1);
    signals.remove(0)
}

/// An intent's date is that of its making. On the hosted page a transaction begins when the customer pays.
#[test]
fn only_a_payment_on_the_page_says_when_it_was_made() {
    let at = |changes: Value| match heard(&*links(), &with(&status("0300"), &changes)) {
        Signal::Payment { report, .. } => report.at,
        other => panic!("{other:?}"),
    };
    let mut document = with(&status("0300"), &json!({"txn_process_type": "nb"}));
    for name in ["intent", "wa_txnid"] {
        document.as_object_mut().unwrap().remove(name);
    }
    let Signal::Payment { report, .. } = heard(&*links(), &document) else {
        panic!();
    };
    assert_eq!(report.at, Millis::from_rfc3339(NAMED));
    document["transaction_date"] = Value::Null;
    let Signal::Payment { report, .. } = heard(&*links(), &document) else {
        panic!();
    };
    assert_eq!(report.at, None);
    assert_eq!(at(json!({})), None);
    assert_eq!(
        at(json!({"txn_process_type": "INTENT", "wa_txnid": null})),
        None
    );
    assert_eq!(
        at(json!({"txn_process_type": null})),
        None,
        "by its other marks"
    );
}

#[test]
fn a_transaction_becomes_a_report() {
    let g = links();
    for (code, wanted) in [
        ("0300", AttemptStatus::Captured),
        ("0002", AttemptStatus::Pending),
        ("0399", AttemptStatus::Failed),
    ] {
        assert_eq!(
            heard(&*g, &status(code)),
            Signal::Payment {
                reference: reference(REFERENCE),
                report: report(wanted),
                trust: Trust::Proven
            },
            "{code}"
        );
    }
    let changed = |changes: Value| {
        heard(
            &*g,
            &with(&transaction(&json!({"auth_status": "0300"})), &changes),
        )
    };
    // Passed on as it is, so that the order is held.
    let Signal::Payment { report, .. } =
        changed(json!({"amount": "1.00", "charge_amount": "850.00", "currency": "840"}))
    else {
        panic!();
    };
    assert_eq!(
        (
            report.amount.get(),
            report.paid_in_full.map(Paise::get),
            report.currency.as_str()
        ),
        (85_000, Some(100), "840")
    );
    // The surcharge is on top of the bill, the discount is taken off it.
    let Signal::Payment { report, .. } =
        changed(json!({"surcharge": "12.50", "discount": "50.00", "charge_amount": "812.50"}))
    else {
        panic!();
    };
    let paise = |amount: Option<Paise>| amount.map(Paise::get);
    assert_eq!(
        (
            report.amount.get(),
            paise(report.paid_in_full),
            paise(report.fee),
            paise(report.offer)
        ),
        (81_250, Some(85_000), Some(1_250), Some(5_000))
    );
    let Signal::Payment { report, .. } = changed(json!({"currency": 356})) else {
        panic!();
    };
    assert_eq!(report.currency, "INR");

    for changes in [
        json!({"auth_status": "0398"}),
        json!({"auth_status": "NA"}),
        json!({"mercid": "OTHER"}),
        json!({"mercid": null}),
        json!({"objectid": "mandate"}),
    ] {
        let heard = changed(changes.clone());
        assert!(matches!(heard, Signal::Ignored(_)), "{changes}: {heard:?}");
    }
    for changes in [
        json!({"auth_status": null}),
        json!({"transactionid": null}),
        json!({"orderid": null}),
        json!({"currency": null}),
        json!({"amount": null}),
        json!({"amount": 850}),
        json!({"amount": "850"}),
        json!({"amount": "850.0"}),
        json!({"amount": "850.000"}),
        json!({"amount": "0850.00"}),
        json!({"amount": "-850.00"}),
        json!({"amount": " 850.00"}),
    ] {
        let document = with(&status("0300"), &changes);
        let verified = g.verify(posted(token(&document))).unwrap();
        assert!(g.read(&verified).is_err(), "{changes}");
    }
    let verified = g
        .verify(posted(token_of(&json!({"alg": "HS256"}), b"paid", KEY)))
        .unwrap();
    assert!(g.read(&verified).is_err());
}

/// The merchant's web shop and other tenants may use a number of ours for their own order on the same account.
#[test]
fn a_transaction_is_ours_by_its_mark_or_its_id() {
    let g = links();
    let of = |changes: &Value| match heard(&*g, &with(&status("0300"), changes)) {
        Signal::Payment {
            reference, trust, ..
        } => Some((reference.to_string(), trust)),
        Signal::Foreign(_) => None,
        other => panic!("{other:?}"),
    };
    let again = call(g.start(&link_request(), &[lost()]));
    let again = payload(&again)["orderid"].as_str().unwrap().to_owned();
    let marked = |mark: &str| json!({"additional_info7": mark});
    let ours = mark_of("acme", REFERENCE);
    let intent = || Trust::OwnLink("X7890477676443".to_owned());
    let page = || Trust::OwnLink(ORDER.to_owned());
    let named = |name: &str, trust| Some((name.to_owned(), trust));
    let bare = json!({"wa_txnid": null, "intent": null, "txn_process_type": null});
    let mut bare_document = with(&status("0300"), &bare);
    for name in ["wa_txnid", "intent", "txn_process_type"] {
        bare_document.as_object_mut().unwrap().remove(name);
    }
    for (changes, expected) in [
        (json!({}), named(REFERENCE, Trust::Proven)),
        (json!({"wa_txnid": null}), named(REFERENCE, Trust::Proven)),
        (json!({"orderid": again}), named(REFERENCE, Trust::Proven)),
        // Without the mark, or with one that proves nothing, the one we were given counts.
        (json!({"additional_info": null}), named(REFERENCE, intent())),
        (
            json!({"additional_info": marked(REFERENCE)}),
            named(REFERENCE, intent()),
        ),
        (
            json!({"additional_info": marked("BM345A12:acme.aaaaaaaaaaaaaaaa")}),
            named(REFERENCE, intent()),
        ),
        // Whose number is not told: the order's own name leads to it.
        (
            json!({"additional_info": null, "wa_txnid": null}),
            named(ORDER, intent()),
        ),
        (
            json!({"additional_info": marked(&mark_of("acme", "OTHER")), "wa_txnid": null}),
            named(ORDER, intent()),
        ),
        // Our number on an order that is not of our making: worth a question about ours, and no more.
        (json!({"orderid": "ORDER77"}), named(REFERENCE, Trust::Hint)),
        (
            json!({"orderid": REFERENCE, "additional_info": null}),
            named(REFERENCE, Trust::Hint),
        ),
        (
            json!({"orderid": order_of("bazaar", REFERENCE), "additional_info": marked(&ours)}),
            named(REFERENCE, Trust::Hint),
        ),
        // Somebody else's.
        (
            json!({"orderid": order_of("bazaar", REFERENCE), "additional_info": marked(&mark_of("bazaar", REFERENCE))}),
            None,
        ),
        (
            json!({"additional_info": marked(&mark_of("bazaar", REFERENCE))}),
            None,
        ),
        (
            json!({"orderid": REFERENCE, "additional_info": null, "wa_txnid": null}),
            None,
        ),
        (
            json!({"orderid": "not a bill", "additional_info": null, "wa_txnid": null}),
            None,
        ),
    ] {
        assert_eq!(of(&changes), expected, "{changes}");
    }
    // On the hosted page the order was given to us, not the transaction.
    bare_document["additional_info"] = Value::Null;
    assert!(matches!(
        heard(&*g, &bare_document),
        Signal::Payment { trust, .. } if trust == page()
    ));
    // In native checkout WhatsApp made the transaction, and the seventh value is the merchant's; what is marked is ours all the same.
    let native = open("payment_gateway", "hmac");
    let of_whatsapp = json!({"orderid": "WA-1", "additional_info": marked("till 7")});
    assert!(matches!(
        heard(&*native, &with(&status("0300"), &of_whatsapp)),
        Signal::Payment { reference, trust: Trust::Hint, .. } if reference.as_str() == "WA-1"
    ));
    assert!(matches!(
        heard(&*native, &status("0300")),
        Signal::Payment {
            trust: Trust::Proven,
            ..
        }
    ));
}

/// Two tenants share the account, and the secrets may have changed since.
#[test]
fn what_is_found_must_be_ours_and_what_is_recorded_is() {
    let g = links();
    let ask = |id: Option<&str>, changes: &Value| {
        let asked = lookup(PaymentMode::PaymentLink, id);
        let answer = said(200, &with(&status("0300"), changes));
        play(&[answer], |a| g.lookup(&asked, a)).1
    };
    let marked = |mark: &str| json!({"additional_info": {"additional_info7": mark}});
    for (changes, found, recorded) in [
        (json!({}), true, true),
        (json!({"additional_info": null}), true, true),
        (marked("BM345A12:acme.aaaaaaaaaaaaaaaa"), false, true),
        (marked(&mark_of("bazaar", REFERENCE)), false, false),
        (marked(&mark_of("acme", "OTHER")), false, false),
    ] {
        assert_eq!(ask(None, &changes).is_ok(), found, "{changes}");
        assert_eq!(ask(Some(ORDER), &changes).is_ok(), recorded, "{changes}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        for security in ["hmac", "jose"] {
            let g = open("payment_link", security);
            prop_assert!(g.verify(posted(body.clone())).is_err());
        }
    }

    #[test]
    fn no_token_shaped_text_makes_it_panic(text in "[A-Za-z0-9_.=&%-]{0,200}") {
        for security in ["hmac", "jose"] {
            let g = open("payment_link", security);
            prop_assert!(g.verify(posted(text.clone())).is_err());
            let form = format!("transaction_response={text}");
            prop_assert!(g.verify(posted(form)).is_err());
        }
    }

    #[test]
    fn no_signed_bytes_make_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let token = token_of(&json!({"alg": "HS256"}), &payload, KEY);
        let g = links();
        let verified = g.verify(posted(token.clone())).unwrap();
        let _ = g.read(&verified);
        prop_assert!(open("payment_link", "jose").verify(posted(token)).is_err());
    }

    #[test]
    fn no_signed_document_makes_it_panic(
        name in prop::sample::select(vec!["objectid", "mercid", "auth_status", "orderid", "transactionid", "amount", "currency", "transaction_date", "additional_info", "wa_txnid"]),
        value in prop_oneof![
            Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from), Just(json!([])), Just(json!({"additional_info7": 1})),
        ],
    ) {
        let g = links();
        let document = with(&status("0300"), &json!({ name: value }));
        let verified = g.verify(posted(token(&document))).unwrap();
        let _ = g.read(&verified);
        let answer = [said(200, &document)];
        let _ = g.lookup(&lookup(PaymentMode::PaymentLink, Some(ORDER)), &answer);
    }
}

#[test]
fn faults_of_the_settings_point_into_the_document() {
    let faults = |payment: &Value| -> Vec<(String, &'static str)> {
        match chatbill_gateways::open(&read(payment).unwrap()) {
            Ok(_) => vec![],
            Err(faults) => faults.into_iter().map(|f| (f.pointer, f.code)).collect(),
        }
    };
    for mode in ["payment_link", "payment_gateway", "upi_intent"] {
        for security in ["jose", "hmac"] {
            assert_eq!(faults(&payment(mode, security)), [], "{mode} {security}");
        }
    }
    let bare = |mode: &str| {
        let mut bare = payment(mode, "hmac");
        for name in ["vpa", "merchant_category", "merchant_name"] {
            bare["credentials"].as_object_mut().unwrap().remove(name);
        }
        bare
    };
    assert_eq!(faults(&bare("payment_link")), []);
    let at = |name: &str, code| (format!("/payment/credentials/{name}"), code);
    assert_eq!(
        faults(&bare("upi_intent")),
        ["vpa", "merchant_category", "merchant_name"].map(|name| at(name, "missing"))
    );
    for (security, name, value, code) in [
        ("hmac", "merchant_id", Value::Null, "missing"),
        ("hmac", "client_id", Value::Null, "missing"),
        ("hmac", "security", Value::Null, "missing"),
        ("hmac", "security", json!("rsa"), "invalid"),
        ("hmac", "signing_key", Value::Null, "missing"),
        ("hmac", "signing_key", json!([]), "invalid"),
        ("hmac", "signing_key", json!(["a", ""]), "invalid"),
        ("jose", "signing_key_id", Value::Null, "missing"),
        ("jose", "encryption_key", Value::Null, "missing"),
        ("jose", "encryption_key", json!("short"), "invalid"),
        (
            "jose",
            "encryption_key",
            json!([ENCRYPTION_KEY, "short"]),
            "invalid",
        ),
        ("jose", "encryption_key_id", Value::Null, "missing"),
        ("hmac", "vpa", json!("nobank"), "invalid"),
        ("hmac", "salt", json!("x"), "unknown_field"),
    ] {
        let mut bad = payment("upi_intent", security);
        bad["credentials"][name] = value;
        let seen = faults(&bad);
        assert!(seen.contains(&at(name, code)), "{name} {code}: {seen:?}");
    }
}

#[test]
fn an_order_names_tenant_and_bill_in_letters_and_digits() {
    assert_eq!(order_of("acme", REFERENCE), ORDER);
    let bills = [
        "BM345A12",
        "BM345A-12",
        "BM345A.12",
        "1",
        "-",
        "a-345678901234567890123456789012345",
    ];
    let mut seen = std::collections::BTreeSet::new();
    for of in ["acme", "bazaar"] {
        for bill in bills {
            let named = order_of(of, bill);
            assert!(named.bytes().all(|b| b.is_ascii_alphanumeric()), "{named}");
            assert_eq!(named, order_of(of, bill));
            assert!(seen.insert(named), "{bill}");
        }
    }
    let longest = PaymentRequest {
        reference: reference("a-345678901234567890123456789012345"),
        order_id: order_of("acme", "a-345678901234567890123456789012345"),
        ..link_request()
    };
    let name = payload(&call(links().start(&longest, &[lost()])))["orderid"].clone();
    assert!(name.as_str().unwrap().len() <= 35, "{name}");
}

#[test]
fn an_order_is_made_and_our_page_posts_its_form() {
    let g = links();
    let start = |answer: Answer| play(&[answer], |a| g.start(&link_request(), a));
    let (calls, started) = start(said(200, &order(ORDER, &same())));
    assert_eq!(labels(&calls), ["create_order"]);
    assert_eq!(started, Ok(answers(ORDER)));
    assert_eq!(
        g.pay_form(&link_request(), &started.unwrap()),
        Some(PayForm {
            action: "https://api.billdesk.com/web/v1_2/embeddedsdk".into(),
            fields: [
                ("bdorderid", "OAHG06WL7CRT0N"),
                ("mercid", "BDMERCID"),
                ("rdata", "c2VjcmV0.x+y/z="),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        })
    );
    for extra in [
        None,
        Some("{".to_owned()),
        Some(json!({"href": "javascript:alert(1)", "fields": {"rdata": "x"}}).to_string()),
    ] {
        let odd = Started {
            extra,
            ..answers(ORDER)
        };
        assert_eq!(g.pay_form(&link_request(), &odd), None);
    }

    for answer in [
        Answer::NotSent("connection refused".into()),
        denied(429, "GNRLE0001", "Too many requests"),
    ] {
        let (_, result) = start(answer);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    for (answer, code) in [
        (
            plain(
                422,
                &fixture("billdesk/reply_timestamp_refused.json").to_string(),
            ),
            "GNIDE0001",
        ),
        (plain(401, "Unauthorized"), "gateway_credentials"),
        (
            plain(403, "{\"message\":\"Forbidden\"}"),
            "gateway_credentials",
        ),
        (plain(404, "<html>"), "http_404"),
        // An error inside a good answer.
        (
            said(
                200,
                &json!({"status": 422, "error_code": "ORDIE0002", "message": "Invalid amount"}),
            ),
            "ORDIE0002",
        ),
    ] {
        let (_, result) = start(answer);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{code}: {result:?}"
        );
    }
}

/// What nobody was shown can be paid by nobody, so another order under another name is safe, and a lost answer does not end a bill.
#[test]
fn after_a_doubt_another_order_is_made_under_another_name() {
    let g = links();
    let start = |answers: &[Answer]| play(answers, |a| g.start(&link_request(), a));
    let name_of = |call: &HttpCall| payload(call)["orderid"].as_str().unwrap().to_owned();
    let forged = token_of(
        &json!({"alg": "HS256"}),
        order(ORDER, &same()).to_string().as_bytes(),
        "wrong",
    );
    for doubt in [
        lost(),
        plain(500, "<html>"),
        plain(504, ""),
        denied(500, "GNRLE0002", "Internal error"),
        plain(200, &order(ORDER, &same()).to_string()),
        plain(200, &forged),
        // We were here before, or the merchant's web shop was.
        denied(409, "ORDDE0001", "Duplicate orderid"),
        denied(422, "ORDIE0009", "The order already exists"),
        said(200, &order("ANOTHER", &same())),
        said(200, &order(ORDER, &json!({"amount": "849.00"}))),
        said(200, &order(ORDER, &json!({"mercid": "OTHER"}))),
        said(200, &order(ORDER, &json!({"links": []}))),
        said(
            200,
            &order(
                ORDER,
                &json!({"links": [{"rel": "redirect", "href": "javascript:x", "parameters": {"rdata": "x"}}]}),
            ),
        ),
        said(
            200,
            &order(
                ORDER,
                &json!({"links": [{"rel": "redirect", "href": "https://x.example", "parameters": {}}]}),
            ),
        ),
        said(200, &json!({"objectid": "order"})),
    ] {
        let second = call(g.start(&link_request(), std::slice::from_ref(&doubt)));
        let name = name_of(&second);
        assert_ne!(name, ORDER);
        let made = said(200, &order(&name, &same()));
        let (calls, started) = start(&[doubt.clone(), made]);
        assert_eq!(labels(&calls), ["create_order", "create_order"]);
        assert_eq!(started, Ok(answers(&name)));
        // Only this once.
        let (calls, result) = start(&[doubt, lost()]);
        assert_eq!(calls.len(), 2);
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
    }
    // A later attempt does not know what became of the first one either.
    let later = |seconds| PaymentRequest {
        maybe_exists: true,
        now: link_request().now.plus_seconds(seconds),
        ..link_request()
    };
    let names = [0, 1, 60].map(|seconds| name_of(&call(g.start(&later(seconds), &[]))));
    assert!(names[0] != names[1] && names[1] != names[2] && !names.contains(&ORDER.to_owned()));
}

#[test]
fn a_device_is_sent_where_it_is_known() {
    let g = links();
    let body = |device| {
        let request = PaymentRequest {
            device,
            ..link_request()
        };
        payload(&call(g.start(&request, &[])))
    };
    assert!(body(link_request().device)["device"].is_object());
    assert_eq!(body(None).get("device"), None);
    let mut six = link_request().device.unwrap();
    six.ip = "2001:db8::1".into();
    assert_eq!(body(Some(six)).get("device"), None);
}

#[test]
fn an_intent_is_checked_before_anybody_sees_it() {
    let g = intents();
    let start = |document: &Value| play(&[said(200, document)], |a| g.start(&intent_request(), a));
    let (calls, started) = start(&intent(INTENT));
    assert_eq!(labels(&calls), ["create_transaction"]);
    assert_eq!(started, Ok(shown_intent()));
    assert_eq!(g.pay_form(&intent_request(), &shown_intent()), None);
    let unpadded = intent(INTENT);
    let text = unpadded["intent"].as_str().unwrap().trim_end_matches('=');
    assert_eq!(
        start(&with(&unpadded, &json!({"intent": text}))).1,
        Ok(shown_intent())
    );
    let upper = INTENT.replace("billdesk@hdfcbank", "BillDesk@HDFCBANK");
    assert_eq!(start(&intent(&upper)).1.unwrap().link, upper);
    // Field report B20: spelled as not every app reads it, and signed, so that nothing may be changed.
    let blanks = INTENT
        .replace("%20", " ")
        .replace("billdesk@", "billdesk%40");
    assert_eq!(start(&intent(&blanks)).1.unwrap().link, INTENT);
    let signed = format!("{blanks}&sign=MEQ=");
    assert_eq!(start(&intent(&signed)).1.unwrap().link, signed);

    for wrong in [
        INTENT.replace("billdesk@hdfcbank", "evil@hdfcbank"),
        INTENT.replace("pa=billdesk@hdfcbank&", ""),
        INTENT.replace("pa=", "pa=evil@hdfcbank&pa="),
        INTENT.replace("&am=850.00", "&am=1.00"),
        INTENT.replace("&am=850.00", "&am=8500"),
        INTENT.replace("&am=850.00", ""),
        INTENT.replace("mam=850.00", "mam=1.00"),
        INTENT.replace("mam=850.00", "mam=null"),
        INTENT.replace("cu=INR", "cu=USD"),
        INTENT.replace("&cu=INR", ""),
        "https://pay.example/?pa=billdesk@hdfcbank&am=850.00&cu=INR".into(),
        String::new(),
    ] {
        let document = if wrong.is_empty() {
            fixture("billdesk/reply_create_transaction.json")["intent"].clone()
        } else {
            json!(STANDARD.encode(&wrong))
        };
        let (_, result) = start(&transaction(&json!({"intent": document})));
        assert!(
            matches!(&result, Err(CallError::Rejected { code, reason }) if code == "intent_mismatch" && !reason.contains('@')),
            "{wrong}: {result:?}"
        );
    }
    // WhatsApp's reference_id has to be BillDesk's wa_txnid.
    let other = with(&intent(INTENT), &json!({"wa_txnid": "H477676443"}));
    assert!(matches!(
        start(&other).1,
        Err(CallError::Rejected { code, .. }) if code == "intent_mismatch"
    ));
    let failed = with(
        &intent(INTENT),
        &json!({"auth_status": "0399", "transaction_error_code": "TRUPE0001"}),
    );
    assert!(matches!(
        start(&failed).1,
        Err(CallError::Rejected { code, .. }) if code == "TRUPE0001"
    ));

    let nobody = PaymentRequest {
        device: None,
        ..intent_request()
    };
    let (calls, result) = play(&[], |a| g.start(&nobody, a));
    assert!(calls.is_empty());
    assert!(
        matches!(&result, Err(CallError::Unavailable { reason, .. }) if reason.contains("device")),
        "{result:?}"
    );
}

#[test]
fn after_a_doubt_the_intent_is_looked_for() {
    let g = intents();
    let start = |answers: &[Answer]| play(answers, |a| g.start(&intent_request(), a));
    let three = [
        "create_transaction",
        "retrieve_transaction",
        "create_transaction",
    ];
    for doubt in [
        lost(),
        plain(502, ""),
        plain(200, "{}"),
        said(200, &transaction(&same())),
        said(200, &with(&intent(INTENT), &json!({"orderid": "X"}))),
    ] {
        let (calls, started) = start(&[doubt.clone(), said(200, &intent(INTENT))]);
        assert_eq!(labels(&calls), three[..2]);
        assert_eq!(started, Ok(shown_intent()));

        // Nothing came of it: the same name again.
        let (calls, started) = start(&[
            doubt.clone(),
            unknown_to_billdesk(),
            said(200, &intent(INTENT)),
        ]);
        assert_eq!(labels(&calls), three);
        assert_eq!(payload(&calls[2])["orderid"], ORDER);
        assert_eq!(started, Ok(shown_intent()));

        // It is there, but its intent is not shown again, or it has failed, or it is the web shop's: another name.
        for there in [
            transaction(&same()),
            with(&intent(INTENT), &json!({"auth_status": "0399"})),
            with(
                &status("0300"),
                &json!({"additional_info": {"additional_info7": mark_of("bazaar", REFERENCE)}}),
            ),
        ] {
            let before = [doubt.clone(), said(200, &there)];
            let third = call(g.start(&intent_request(), &before));
            let name = payload(&third)["orderid"].clone();
            assert_ne!(name, ORDER);
            assert_eq!(payload(&third)["wa_txnid"], REFERENCE);
            let made = said(200, &with(&intent(INTENT), &json!({"orderid": name})));
            let (calls, started) = start(&[before[0].clone(), before[1].clone(), made]);
            assert_eq!(labels(&calls), three);
            assert_eq!(started, Ok(shown_intent()));
        }

        let paid = said(200, &status("0300"));
        let (_, result) = start(&[doubt.clone(), paid]);
        assert!(matches!(result, Err(CallError::Rejected { code, .. }) if code == "link_paid"));
        for blind in [lost(), Answer::NotSent("no route".into()), plain(500, "")] {
            let (_, result) = start(&[doubt.clone(), blind]);
            assert!(
                matches!(result, Err(CallError::Unknown { .. })),
                "{result:?}"
            );
        }
        let (calls, result) = start(&[doubt, unknown_to_billdesk(), lost()]);
        assert_eq!(labels(&calls), three);
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
    }
    let again = PaymentRequest {
        maybe_exists: true,
        ..intent_request()
    };
    let (calls, started) = play(&[said(200, &intent(INTENT))], |a| g.start(&again, a));
    assert_eq!(labels(&calls), ["retrieve_transaction"]);
    assert_eq!(started, Ok(shown_intent()));
    let (_, result) = play(&[lost()], |a| g.start(&again, a));
    assert!(
        matches!(result, Err(CallError::Unavailable { .. })),
        "{result:?}"
    );
}

#[test]
fn asking_what_became_of_it() {
    let g = links();
    let asked = lookup(PaymentMode::PaymentLink, Some(ORDER));
    let ask = |answer: Answer| play(&[answer], |a| g.lookup(&asked, a)).1;
    for (code, wanted) in [
        ("0300", AttemptStatus::Captured),
        ("0002", AttemptStatus::Pending),
        ("0399", AttemptStatus::Failed),
        // Not documented: it may yet turn out well.
        ("0398", AttemptStatus::Pending),
    ] {
        let found = ask(said(200, &status(code))).unwrap();
        assert_eq!(
            (found.reports, found.closed),
            (vec![report(wanted)], None),
            "{code}"
        );
    }
    let other = ask(said(
        200,
        &with(
            &status("0300"),
            &json!({"amount": "1.00", "currency": "840"}),
        ),
    ))
    .unwrap();
    assert_eq!(
        (
            other.reports[0].amount.get(),
            other.reports[0].currency.as_str()
        ),
        (86_250, "840")
    );

    for answer in [
        unknown_to_billdesk(),
        plain(404, "{\"status\":404,\"message\":\"nothing here\"}"),
        denied(422, "TRNIE0001", "No records found"),
        denied(400, "TRNIE0001", "Order does not exist"),
    ] {
        assert_eq!(ask(answer), Ok(Found::default()));
    }
    for answer in [
        lost(),
        Answer::NotSent("x".into()),
        plain(500, ""),
        plain(429, ""),
        plain(200, &status("0300").to_string()),
        plain(200, "<html>"),
        said(200, &with(&status("0300"), &json!({"orderid": "ANOTHER"}))),
        said(200, &with(&status("0300"), &json!({"mercid": "ANOTHER"}))),
        said(
            200,
            &json!({"objectid": "transaction", "orderid": REFERENCE, "mercid": "BDMERCID"}),
        ),
    ] {
        let result = ask(answer);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    for (answer, code) in [
        (plain(404, "<html>not found</html>"), "http_404"),
        (
            denied(422, "GNIDE0001", "Invalid timestamp header"),
            "GNIDE0001",
        ),
        (plain(401, ""), "gateway_credentials"),
        (
            said(
                200,
                &with(
                    &status("0300"),
                    &json!({"additional_info": {"additional_info7": "OTHER"}}),
                ),
            ),
            "link_other_reference",
        ),
    ] {
        let result = ask(answer);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{code}: {result:?}"
        );
    }

    let key = |mode, id| payload(&call(g.lookup(&lookup(mode, id), &[])));
    assert_eq!(
        key(PaymentMode::UpiIntent, Some("X7890"))["transactionid"],
        "X7890"
    );
    assert_eq!(key(PaymentMode::UpiIntent, None)["orderid"], ORDER);
    assert_eq!(key(PaymentMode::PaymentLink, None)["orderid"], ORDER);
    assert_eq!(key(PaymentMode::PaymentGateway, None)["orderid"], REFERENCE);
}

/// In encryption mode an answer that is only signed says nothing.
#[test]
fn an_answer_has_to_be_protected_as_agreed() {
    let g = open("payment_link", "jose");
    let asked = lookup(PaymentMode::PaymentLink, Some(ORDER));
    let (_, result) = play(&[said(200, &status("0300"))], |a| g.lookup(&asked, a));
    assert!(
        matches!(result, Err(CallError::Unavailable { .. })),
        "{result:?}"
    );
    // bd-s03 was made by another library.
    let asked = LookupRequest {
        reference: reference("INV20250001x1"),
        ..lookup(PaymentMode::PaymentLink, Some("INV20250001x1"))
    };
    let (_, result) = play(&[plain(200, &genuine("jose"))], |a| g.lookup(&asked, a));
    assert_eq!(result.unwrap().reports[0].status, AttemptStatus::Captured);
}

#[test]
fn canceling() {
    let g = links();
    let cancel = |mode, id, answer: Answer| {
        let asked = lookup(mode, id);
        play(&[answer], |a| g.cancel(&asked, a)).1
    };
    let (link, upi) = (PaymentMode::PaymentLink, PaymentMode::UpiIntent);
    let id = Some("X7890477676443");
    for (mode, id) in [(link, Some(ORDER)), (link, None), (upi, id), (upi, None)] {
        assert_eq!(
            cancel(mode, id, said(200, &status("0300"))),
            Ok(Canceled::AlreadyPaid)
        );
        assert_eq!(
            cancel(mode, id, said(200, &status("0399"))),
            Ok(Canceled::Closed)
        );
        assert_eq!(
            cancel(mode, id, unknown_to_billdesk()),
            Ok(Canceled::Closed)
        );
        for blind in [lost(), Answer::NotSent("x".into()), plain(503, "")] {
            assert!(matches!(
                cancel(mode, id, blind),
                Err(CallError::Unavailable { .. })
            ));
        }
    }
    let pending = || said(200, &status("0002"));
    assert!(matches!(
        cancel(link, Some(ORDER), pending()),
        Err(CallError::Rejected { code, .. }) if code == "payment_under_way"
    ));
    assert!(matches!(
        cancel(upi, id, pending()),
        Err(CallError::Unsupported(_))
    ));
    assert_eq!(cancel(upi, None, pending()), Ok(Canceled::Closed));
}

fn refunded(changes: &Value) -> Value {
    let refund = json!({
        "objectid": "refund", "refundid": "RF1", "transactionid": "X7890477676443", "orderid": REFERENCE,
        "mercid": "BDMERCID", "transaction_date": NAMED, "txn_amount": "850.00", "refund_amount": "100.00",
        "currency": "356", "refund_date": "2026-11-22T07:00:00+05:30",
        "merc_refund_ref_no": refund_of(PaymentMode::PaymentLink).token, "refund_status": "0799",
    });
    with(&refund, changes)
}

fn refund_report() -> RefundReport {
    RefundReport {
        status: RefundStatus::Processed,
        id: Some("RF1".into()),
        name: Some(refund_of(PaymentMode::PaymentLink).token),
        payment_id: "X7890477676443".into(),
        amount: Paise::new(10_000).unwrap(),
        speed: None,
        bank_reference: None,
        error: None,
        at: Millis::from_rfc3339("2026-11-22T07:00:00+05:30"),
    }
}

#[test]
fn a_refund_is_given_once() {
    let g = links();
    let request = refund_of(PaymentMode::PaymentLink);
    let refund = |answers: &[Answer]| play(answers, |a| g.refund(&request, a));
    let paid = || said(200, &status("0300"));
    let two = ["retrieve_transaction", "create_refund"];
    let three = ["retrieve_transaction", "create_refund", "retrieve_refund"];

    for code in ["0799", "0699"] {
        let done = said(200, &refunded(&json!({"refund_status": code})));
        let (calls, result) = refund(&[paid(), done]);
        assert_eq!(
            (labels(&calls), result),
            (two.to_vec(), Ok(refund_report()))
        );
    }
    let odd = said(200, &refunded(&json!({"refund_status": "0700"})));
    assert_eq!(
        refund(&[paid(), odd]).1.unwrap().status,
        RefundStatus::Pending
    );

    // BillDesk shows it along with the payment, under whatever name.
    for name in ["refund_info", "refunds"] {
        let shown = with(
            &status("0300"),
            &json!({ name: [refunded(&json!({"merc_refund_ref_no": "other"})), refunded(&same())] }),
        );
        let (calls, result) = refund(&[said(200, &shown)]);
        assert_eq!(
            (labels(&calls), result),
            (two[..1].to_vec(), Ok(refund_report()))
        );
        let asked = lookup(PaymentMode::PaymentLink, Some(ORDER));
        let (_, found) = play(&[said(200, &shown)], |a| g.lookup(&asked, a));
        assert_eq!(found.unwrap().refunds.len(), 2);
    }

    // In doubt it is looked for, and never asked for again.
    for doubt in [
        lost(),
        plain(500, ""),
        plain(200, &refunded(&same()).to_string()),
        said(200, &refunded(&json!({"merc_refund_ref_no": "another"}))),
        said(200, &refunded(&json!({"transactionid": "another"}))),
        said(200, &refunded(&json!({"refund_amount": "1"}))),
    ] {
        let (calls, result) = refund(&[paid(), doubt.clone(), said(200, &refunded(&same()))]);
        assert_eq!(
            (labels(&calls), result),
            (three.to_vec(), Ok(refund_report()))
        );
        for blind in [
            unknown_to_billdesk(),
            lost(),
            plain(500, ""),
            said(200, &json!({"objectid": "refund"})),
        ] {
            let (calls, result) = refund(&[paid(), doubt.clone(), blind]);
            assert_eq!(labels(&calls), three);
            assert!(
                matches!(result, Err(CallError::Unknown { .. })),
                "{result:?}"
            );
        }
    }
    // A refusal may be the answer to a repetition.
    let refused = || denied(422, "RFDDE0001", "Duplicate request");
    let (calls, result) = refund(&[paid(), refused(), said(200, &refunded(&same()))]);
    assert_eq!(
        (labels(&calls), result),
        (three.to_vec(), Ok(refund_report()))
    );
    let (_, result) = refund(&[paid(), refused(), unknown_to_billdesk()]);
    assert!(matches!(result, Err(CallError::Rejected { code, .. }) if code == "RFDDE0001"));
    let (_, result) = refund(&[paid(), refused(), lost()]);
    assert!(
        matches!(result, Err(CallError::Unknown { .. })),
        "{result:?}"
    );

    for answers in [
        vec![Answer::NotSent("x".into())],
        vec![lost()],
        vec![plain(500, "")],
        vec![paid(), Answer::NotSent("x".into())],
        vec![paid(), plain(429, "")],
    ] {
        let (_, result) = refund(&answers);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    for (answer, code) in [
        (unknown_to_billdesk(), "refund_no_payment"),
        (said(200, &status("0399")), "refund_not_captured"),
        (said(200, &status("0002")), "refund_not_captured"),
    ] {
        let (_, result) = refund(&[answer]);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{result:?}"
        );
    }
}

#[test]
fn asking_about_a_refund() {
    let g = links();
    let request = refund_of(PaymentMode::PaymentLink);
    let ask = |answer: Answer| play(&[answer], |a| g.lookup_refund(&request, a)).1;
    assert_eq!(
        ask(said(200, &refunded(&same()))),
        Ok(Some(refund_report()))
    );
    assert_eq!(ask(denied(404, "RFDNF0001", "Refund not found")), Ok(None));
    for answer in [
        lost(),
        plain(500, ""),
        plain(200, "{}"),
        said(200, &refunded(&json!({"merc_refund_ref_no": "another"}))),
    ] {
        let result = ask(answer);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    // Something in front of BillDesk does not know its refunds.
    assert!(matches!(
        ask(plain(404, "<html>not found</html>")),
        Err(CallError::Rejected { .. })
    ));
}

#[test]
fn what_billdesk_would_not_refund_is_known_beforehand() {
    let g = links();
    let codes = |mode, days: i64, speed| -> Vec<(String, &'static str)> {
        let request = refund_of(mode);
        let request = RefundRequest {
            // 22 November 2026, 05:30 in India: the day changes there at 18:30 UTC.
            now: request.captured_at.plus_seconds(days * 86_400 + 66_599),
            speed,
            ..request
        };
        let faults = g.check_refund(&request).into_iter();
        faults.map(|f| (f.pointer, f.code)).collect()
    };
    let late = || vec![(String::new(), "too_old")];
    assert_eq!(codes(PaymentMode::PaymentLink, 180, Speed::Normal), []);
    assert_eq!(codes(PaymentMode::PaymentLink, 181, Speed::Normal), late());
    assert_eq!(codes(PaymentMode::UpiIntent, 90, Speed::Normal), []);
    assert_eq!(codes(PaymentMode::UpiIntent, 91, Speed::Normal), late());
    assert_eq!(
        codes(PaymentMode::PaymentLink, 0, Speed::Instant),
        [("/speed".into(), "impossible")]
    );
}

#[test]
fn native_checkout_has_nothing_to_start() {
    let g = open("payment_gateway", "hmac");
    let (_, result) = play(&[], |a| g.start(&request(PaymentMode::PaymentGateway), a));
    assert!(matches!(result, Err(CallError::Unsupported(_))));
}

#[test]
fn half_a_character_does_not_cost_the_transaction() {
    let payload = status("0300").to_string();
    let cut = payload.replacen('{', r#"{"note":"\ud83c","#, 1);
    let header = json!({"alg": "HS256", "clientid": "bdmerc1"});
    let token = token_of(&header, cut.as_bytes(), KEY);
    let g = links();
    let heard = g.read(&g.verify(posted(token.clone())).unwrap()).unwrap();
    assert!(
        matches!(heard.as_slice(), [Signal::Payment { .. }]),
        "{heard:?}"
    );
    let Step::Done(Ok(found)) = g.lookup(
        &lookup(PaymentMode::PaymentLink, None),
        &[plain(200, &token)],
    ) else {
        panic!()
    };
    assert_eq!(found.reports.len(), 1);
}

/// No list of codes is documented: what is missing is known by the words.
#[test]
fn a_short_balance_at_billdesk_is_not_now() {
    let g = links();
    let refund = refund_of(PaymentMode::PaymentLink);
    let give = |answers: &[Answer]| {
        let paid = said(200, &status("0300"));
        let all = [&[paid], answers].concat();
        play(&all, |a| g.refund(&refund, a))
    };
    let short = |result: &Result<RefundReport, CallError>| {
        let obstacle = Obstacle::InsufficientBalance;
        assert!(
            matches!(result, Err(CallError::NotNow { obstacle: o, .. }) if *o == obstacle),
            "{result:?}"
        );
    };
    let not_there = || denied(404, "RFDNF0001", "Refund not found");
    for denial in [
        denied(
            422,
            "RFDIE0021",
            "Insufficient balance to process the refund",
        ),
        denied(409, "RFDIE0021", "Not enough funds available"),
        denied(500, "RFDIE0021", "Merchant balance is too low"),
        denied(422, "insufficient_funds", "Refund failed"),
    ] {
        let (calls, result) = give(&[denial.clone(), not_there()]);
        assert_eq!(
            labels(&calls),
            ["retrieve_transaction", "create_refund", "retrieve_refund"]
        );
        short(&result);
        short(&give(&[denial, lost()]).1);
    }
    // Not BillDesk's own words, and words that say nothing of money.
    let page = plain(502, "<html>insufficient balance of workers</html>");
    let (_, result) = give(&[page, not_there()]);
    assert!(
        matches!(result, Err(CallError::Unknown { .. })),
        "{result:?}"
    );
    let (_, result) = give(&[
        denied(422, "RFDIE0004", "The refund amount exceeds"),
        not_there(),
    ]);
    assert!(
        matches!(result, Err(CallError::Rejected { .. })),
        "{result:?}"
    );
    // The same request twice a day: what became of the first is asked for, and if it is not there it is sent again later.
    let repeated = denied(409, "GNDUE0001", "Duplicate traceid header");
    let (_, result) = give(&[repeated, not_there()]);
    assert!(
        matches!(result, Err(CallError::Unavailable { .. })),
        "{result:?}"
    );

    // After a clear no the shop does not wait a day until its request is taken again.
    let traced = |not_now: Option<u32>| {
        let paid = said(200, &status("0300"));
        let request = RefundRequest {
            not_now,
            ..refund.clone()
        };
        let made = call(g.refund(&request, &[paid]));
        assert_eq!(payload(&made)["merc_refund_ref_no"], refund.token);
        header(&made, "BD-Traceid").to_owned()
    };
    assert_eq!(traced(None), traced(None));
    assert_eq!(traced(Some(2)), traced(Some(2)));
    assert!(traced(None) != traced(Some(2)) && traced(Some(2)) != traced(Some(3)));
}
