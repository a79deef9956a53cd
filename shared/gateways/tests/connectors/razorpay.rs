//! Razorpay.

use chatbill_domain::bill::Bill;
use chatbill_domain::connector::{Gateway, Signal, Trust};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, MAX_CALLS, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Closed, Found, LookupRequest, PaymentMode, PaymentRequest, Started,
};
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use chatbill_testkit::builders::{lookup_request, payment_request};
use serde_json::{Value, json};

use crate::support::{Probe, bytes, fixture, lost, printed, read, reply, tenant};

const SECRET: &str = "whsec_shop_demo_01";
const REFERENCE: &str = "BM345A-12";

fn payment(mode: &str, webhook_secrets: &[&str]) -> Value {
    json!({
        "mode": mode, "gateway": "razorpay", "configuration_name": "shop-razorpay",
        "credentials": {"key_id": "rzp_test_1", "key_secret": "s3cret", "webhook_secrets": webhook_secrets},
    })
}

fn gateway() -> Box<dyn Gateway> {
    chatbill_gateways::open(&tenant(&payment("payment_link", &["newer", SECRET]))).unwrap()
}

fn signed(body: Vec<u8>) -> RawWebhook {
    let signature = hex::encode(hmac_sha256(SECRET.as_bytes(), &body));
    RawWebhook {
        headers: vec![("x-razorpay-signature".into(), signature)],
        query: vec![],
        body,
    }
}

pub(crate) fn probe() -> Probe {
    Probe {
        tenant: tenant(&payment("payment_link", &[SECRET])),
        webhook: signed(bytes("razorpay/hook_payment_link_paid.json")),
        calls: &[
            "create_link",
            "find_link",
            "fetch_link",
            "order_payments",
            "cancel_link",
        ],
    }
}

fn reference() -> ReferenceId {
    ReferenceId::parse(REFERENCE).unwrap()
}

fn request() -> PaymentRequest {
    PaymentRequest {
        reference: reference(),
        amount: Paise::new(84_000).unwrap(),
        expires_at: Millis::new(1_772_131_045_750),
        description: "Acme Stores, bill BM345A-12".into(),
        ..payment_request(PaymentMode::PaymentLink)
    }
}

/// A link as the documents show one, in another state.
fn link(status: &str, changes: &Value) -> Value {
    let mut link = fixture("razorpay/reply_link.json");
    link["status"] = json!(status);
    link["amount"] = json!(84_000);
    link["reference_id"] = json!(REFERENCE);
    link["expire_by"] = json!(1_772_131_045);
    for (name, value) in changes.as_object().unwrap() {
        link[name] = value.clone();
    }
    link
}

fn same() -> Value {
    json!({})
}

fn list(links: &[Value]) -> Answer {
    reply(200, &json!({"payment_links": links}))
}

fn error(status: u16, name: &str) -> Answer {
    reply(status, &fixture(&format!("razorpay/{name}.json")))
}

fn started() -> Started {
    Started {
        id: "plink_ExjpAUN3gVHrPJ".into(),
        link: "https://rzp.io/i/nxrHnLJ".into(),
        expires_at: Millis::from_seconds(1_772_131_045),
        extra: None,
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
            Step::Call(call) => {
                let label = call.label.strip_prefix("razorpay.").unwrap();
                labels.push(label);
            }
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

fn lookup(gateway_id: Option<&str>) -> LookupRequest {
    LookupRequest {
        reference: reference(),
        ..lookup_request(PaymentMode::PaymentLink, gateway_id)
    }
}

#[test]
fn the_calls() {
    let g = gateway();
    let id = lookup(Some("plink_ExjpAUN3gVHrPJ"));
    insta::assert_json_snapshot!("create_link", printed(&call(g.start(&request(), &[]))));
    let again = PaymentRequest {
        maybe_exists: true,
        ..request()
    };
    insta::assert_json_snapshot!("find_link", printed(&call(g.start(&again, &[]))));
    insta::assert_json_snapshot!("fetch_link", printed(&call(g.lookup(&id, &[]))));
    let open = reply(
        200,
        &link("created", &json!({"order_id": "order_N8FRN5zTm5S3wx"})),
    );
    insta::assert_json_snapshot!("order_payments", printed(&call(g.lookup(&id, &[open]))));
    insta::assert_json_snapshot!("cancel_link", printed(&call(g.cancel(&id, &[]))));
}

#[test]
fn a_base_url_replaces_the_host_only() {
    let mut settings = payment("payment_link", &[SECRET]);
    settings["base_url"] = json!("https://uat.example/razorpay/");
    let g = chatbill_gateways::open(&tenant(&settings)).unwrap();
    assert_eq!(
        call(g.lookup(&lookup(Some("plink/../x?")), &[])).url,
        "https://uat.example/razorpay/v1/payment_links/plink%2F..%2Fx%3F"
    );
}

#[test]
fn our_note_needs_room_and_cannot_be_forged() {
    let g = gateway();
    let notes = |notes: Vec<(String, String)>| {
        let call = call(g.start(&PaymentRequest { notes, ..request() }, &[]));
        let body: Value = serde_json::from_slice(&call.body.unwrap().1).unwrap();
        body["notes"].clone()
    };
    let many = |n: usize| {
        (0..n)
            .map(|i| (format!("k{i}"), "v".to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(notes(many(14))["chatbill_reference"], REFERENCE);
    assert_eq!(notes(many(15)).as_object().unwrap().len(), 15);
    assert_eq!(notes(many(15)).get("chatbill_reference"), None);
    let forged = vec![("chatbill_reference".to_owned(), "other".to_owned())];
    assert_eq!(notes(forged)["chatbill_reference"], REFERENCE);
}

#[test]
fn faults_of_the_settings_point_into_the_document() {
    let faults = |payment: &Value| -> Vec<(String, &'static str)> {
        match chatbill_gateways::open(&read(payment).unwrap()) {
            Ok(_) => vec![],
            Err(faults) => faults.into_iter().map(|f| (f.pointer, f.code)).collect(),
        }
    };
    assert_eq!(faults(&payment("payment_gateway", &[SECRET])), []);
    let mut bad = payment("upi_intent", &[]);
    bad["credentials"]["key_id"] = json!("a:b");
    bad["credentials"]["key_secret"] = Value::Null;
    bad["credentials"]["salt"] = json!("x");
    let seen = faults(&bad);
    for expected in [
        ("/payment/mode", "impossible"),
        ("/payment/credentials/key_id", "invalid"),
        ("/payment/credentials/key_secret", "missing"),
        ("/payment/credentials/webhook_secrets", "invalid"),
        ("/payment/credentials/salt", "unknown_field"),
    ] {
        assert!(
            seen.contains(&(expected.0.to_owned(), expected.1)),
            "{expected:?} in {seen:?}"
        );
    }
}

fn bill(paise: i64) -> Bill {
    let document = json!({
        "reference_id": REFERENCE, "customer": {"phone": "+919876543210"}, "goods": "physical-goods",
        "items": [{"retailer_id": "1", "name": "Rice", "quantity": 1, "amount": {"value": paise, "offset": 100}}],
    });
    Bill::read(&document, reference).unwrap()
}

#[test]
fn a_bill_too_small_or_too_short_is_refused_beforehand() {
    let g = gateway();
    let codes = |paise, mode, seconds| -> Vec<(String, &'static str)> {
        g.check(&bill(paise), mode, seconds)
            .into_iter()
            .map(|f| (f.pointer, f.code))
            .collect()
    };
    assert_eq!(codes(100, PaymentMode::PaymentLink, 900), []);
    assert_eq!(codes(100, PaymentMode::PaymentGateway, 300), []);
    assert_eq!(
        codes(99, PaymentMode::PaymentLink, 899),
        [
            ("/expires_in".into(), "too_short"),
            ("/total_amount".into(), "too_small")
        ]
    );
}

#[test]
fn creating_a_link() {
    let g = gateway();
    let start = |answers: &[Answer]| play(answers, |a| g.start(&request(), a));
    let made = reply(200, &link("created", &same()));

    assert_eq!(
        start(std::slice::from_ref(&made)),
        (vec!["create_link"], Ok(started()))
    );
    let endless = reply(200, &link("created", &json!({"expire_by": 0})));
    assert_eq!(
        start(&[endless]).1.unwrap().expires_at,
        request().expires_at
    );

    let local = reply(
        200,
        &link(
            "created",
            &json!({"short_url": "http://127.0.0.1:4000/pay/1"}),
        ),
    );
    assert_eq!(
        start(&[local]).1.unwrap().link,
        "http://127.0.0.1:4000/pay/1"
    );

    // Nothing happened: ask again later.
    for answer in [
        Answer::NotSent("connection refused".into()),
        error(429, "reply_throttled"),
    ] {
        let (calls, result) = start(&[answer]);
        assert_eq!(calls, ["create_link"]);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    let slow = Answer::Reply(HttpReply {
        status: 429,
        retry_after: Some(7),
        body: vec![],
    });
    assert!(matches!(
        start(&[slow]).1,
        Err(CallError::Unavailable {
            retry_after: Some(7),
            ..
        })
    ));

    // A clear no.
    for (answer, code) in [
        (error(401, "reply_bad_key"), "gateway_credentials"),
        (error(400, "reply_bad_key"), "gateway_credentials"),
        (error(400, "reply_too_early"), "BAD_REQUEST_ERROR"),
        (reply(404, &json!("nothing")), "http_404"),
    ] {
        let (_, result) = start(&[answer]);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{result:?}"
        );
    }
}

#[test]
fn after_a_doubt_it_looks_before_it_creates_again() {
    let g = gateway();
    let start = |answers: &[Answer]| play(answers, |a| g.start(&request(), a));
    let made = || reply(200, &link("created", &same()));
    let doubts = [
        lost(),
        reply(500, &json!({})),
        Answer::Reply(HttpReply {
            status: 504,
            retry_after: None,
            body: b"<html>".to_vec(),
        }),
        Answer::Reply(HttpReply {
            status: 200,
            retry_after: None,
            body: b"{\"id\":".to_vec(),
        }),
        reply(200, &link("created", &json!({"short_url": null}))),
        reply(
            200,
            &link("created", &json!({"short_url": "javascript:alert(1)"})),
        ),
        reply(200, &link("created", &json!({"amount": 1}))),
    ];
    for doubt in doubts {
        let found = list(&[link("created", &same())]);
        assert_eq!(
            start(&[doubt.clone(), found]),
            (vec!["create_link", "find_link"], Ok(started()))
        );
        assert_eq!(
            start(&[doubt.clone(), list(&[]), made()]),
            (
                vec!["create_link", "find_link", "create_link"],
                Ok(started())
            )
        );
        let (_, result) = start(&[doubt.clone(), lost()]);
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
        let (_, result) = start(&[doubt.clone(), Answer::NotSent("no route".into())]);
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
        let (calls, result) = start(&[doubt.clone(), list(&[]), doubt, list(&[])]);
        assert_eq!(
            calls,
            ["create_link", "find_link", "create_link", "find_link"]
        );
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_reference_that_is_taken_is_looked_up() {
    let g = gateway();
    for name in ["reply_duplicate_documented", "reply_duplicate_seen"] {
        let start = |found: Answer| play(&[error(400, name), found], |a| g.start(&request(), a));
        assert_eq!(
            start(list(&[link("created", &same())])),
            (vec!["create_link", "find_link"], Ok(started()))
        );
        for (found, code) in [
            (link("cancelled", &same()), "link_canceled"),
            (link("expired", &same()), "link_expired"),
            (link("paid", &same()), "link_paid"),
            (
                link("created", &json!({"amount": 84_001})),
                "link_other_amount",
            ),
            (
                link("created", &json!({"currency": "USD"})),
                "link_other_amount",
            ),
            (link("dreaming", &same()), "link_unusable"),
        ] {
            let (_, result) = start(list(&[found]));
            assert!(
                matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
                "{code}: {result:?}"
            );
        }
        for found in [
            list(&[]),
            lost(),
            reply(500, &json!({})),
            reply(200, &json!([])),
        ] {
            let (_, result) = start(found);
            assert!(
                matches!(result, Err(CallError::Unknown { .. })),
                "{result:?}"
            );
        }
    }
}

#[test]
fn what_may_exist_is_looked_for_first() {
    let g = gateway();
    let again = PaymentRequest {
        maybe_exists: true,
        ..request()
    };
    let start = |answers: &[Answer]| play(answers, |a| g.start(&again, a));
    let closed = link("cancelled", &same());
    let other = link("created", &json!({"reference_id": "BM345A-1"}));
    assert_eq!(
        start(&[list(&[closed, other.clone(), link("created", &same())])]),
        (vec!["find_link"], Ok(started()))
    );
    assert_eq!(
        start(&[list(&[other]), reply(200, &link("created", &same()))]),
        (vec!["find_link", "create_link"], Ok(started()))
    );
    let (_, result) = start(&[lost()]);
    assert!(
        matches!(result, Err(CallError::Unavailable { .. })),
        "{result:?}"
    );
    // The longest conversation there is.
    let (calls, result) = start(&[list(&[]), lost(), list(&[]), lost(), list(&[])]);
    assert_eq!(calls.len(), 5);
    assert!(
        matches!(result, Err(CallError::Unknown { .. })),
        "{result:?}"
    );
}

#[test]
fn a_refusal_is_quoted_without_personal_data() {
    let g = gateway();
    let said = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": format!("contact 919876543210 of a@b is wrong {}", "x".repeat(300))}});
    let (_, result) = play(&[reply(400, &said)], |a| g.start(&request(), a));
    let Err(CallError::Rejected { reason, .. }) = result else {
        panic!("{result:?}")
    };
    assert!(
        !reason.contains("9876543210") && !reason.contains("a@b"),
        "{reason}"
    );
    assert!(reason.chars().count() <= 200);
}

fn paid_link() -> Value {
    link(
        "paid",
        &json!({"order_id": "order_N8FRN5zTm5S3wx", "payments": [{
            "amount": 84_000, "created_at": 1_772_130_000, "method": "upi", "payment_id": "pay_N1",
            "plink_id": "plink_ExjpAUN3gVHrPJ", "status": "captured", "updated_at": 1_772_130_005,
        }]}),
    )
}

#[test]
fn looking_up_a_paid_link_takes_one_call() {
    let g = gateway();
    for (request, answer) in [
        (
            lookup(Some("plink_ExjpAUN3gVHrPJ")),
            reply(200, &paid_link()),
        ),
        (lookup(None), list(&[paid_link()])),
    ] {
        let (calls, found) = play(&[answer], |a| g.lookup(&request, a));
        assert_eq!(calls.len(), 1);
        let found = found.unwrap();
        assert_eq!(found.closed, None);
        let [report] = found.reports.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(
            (
                report.status,
                report.payment_id.as_str(),
                report.amount.get(),
                report.currency.as_str()
            ),
            (AttemptStatus::Captured, "pay_N1", 84_000, "INR")
        );
        assert_eq!(
            (report.method.as_deref(), report.at),
            (Some("upi"), Some(Millis::from_seconds(1_772_130_000)))
        );
    }
}

#[test]
fn an_open_link_with_an_order_is_asked_for_attempts() {
    let g = gateway();
    let id = lookup(Some("plink_ExjpAUN3gVHrPJ"));
    let look = |answers: &[Answer]| play(answers, |a| g.lookup(&id, a));
    let open = || {
        reply(
            200,
            &link("expired", &json!({"order_id": "order_N8FRN5zTm5S3wx"})),
        )
    };
    let payments = reply(200, &fixture("razorpay/reply_order_payments.json"));
    let (calls, found) = look(&[open(), payments]);
    assert_eq!(calls, ["fetch_link", "order_payments"]);
    let found = found.unwrap();
    assert_eq!(found.closed, Some(Closed::Expired));
    let seen: Vec<_> = found
        .reports
        .iter()
        .map(|r| (r.payment_id.as_str(), r.status, r.error.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            (
                "pay_N8FUmetkCE2hZP",
                AttemptStatus::Failed,
                Some("payment_failed")
            ),
            ("pay_N8FVRD1DzYzBh1", AttemptStatus::Captured, None),
        ]
    );
    // Failed attempts are a luxury.
    assert_eq!(
        look(&[open(), lost()]).1,
        Ok(Found {
            reports: vec![],
            closed: Some(Closed::Expired),
            refunds: vec![],
        })
    );
    // A payment that came back in full was captured once.
    let refunded = json!({"items": [{"id": "pay_1", "amount": 84_000, "currency": "INR", "status": "refunded"}]});
    assert_eq!(
        look(&[open(), reply(200, &refunded)]).1.unwrap().reports[0].status,
        AttemptStatus::Captured
    );
}

#[test]
fn a_paid_link_never_looks_unpaid() {
    let g = gateway();
    let id = lookup(Some("plink_ExjpAUN3gVHrPJ"));
    let look = |answers: &[Answer]| play(answers, |a| g.lookup(&id, a)).1;
    let blank = |order: Value| {
        reply(
            200,
            &link("paid", &json!({"payments": null, "order_id": order})),
        )
    };
    assert!(matches!(
        look(&[blank(Value::Null)]),
        Err(CallError::Unavailable { .. })
    ));
    assert!(matches!(
        look(&[blank(json!("order_1")), lost()]),
        Err(CallError::Unavailable { .. })
    ));
    let payments = reply(200, &fixture("razorpay/reply_order_payments.json"));
    assert_eq!(
        look(&[blank(json!("order_1")), payments])
            .unwrap()
            .reports
            .len(),
        2
    );
}

#[test]
fn a_lookup_that_fails_says_how() {
    let g = gateway();
    let id = lookup(Some("plink_ExjpAUN3gVHrPJ"));
    let look = |answer: Answer| play(&[answer], |a| g.lookup(&id, a)).1;
    assert_eq!(
        look(reply(200, &link("created", &same()))),
        Ok(Found::default())
    );
    assert_eq!(
        play(&[list(&[])], |a| g.lookup(&lookup(None), a)).1,
        Ok(Found::default())
    );
    for answer in [
        lost(),
        Answer::NotSent("x".into()),
        reply(502, &json!({})),
        error(429, "reply_throttled"),
        reply(200, &json!({"payment_links": [{}]})),
        Answer::Reply(HttpReply {
            status: 200,
            retry_after: None,
            body: b"<html>".to_vec(),
        }),
    ] {
        let result = look(answer);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    for (answer, code) in [
        (error(401, "reply_bad_key"), "gateway_credentials"),
        (error(400, "reply_no_such_link"), "BAD_REQUEST_ERROR"),
        (
            reply(200, &link("paid", &json!({"reference_id": "other"}))),
            "link_other_reference",
        ),
    ] {
        let result = look(answer);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{result:?}"
        );
    }
}

#[test]
fn canceling_a_link() {
    let g = gateway();
    let id = lookup(Some("plink_ExjpAUN3gVHrPJ"));
    let cancel = |answers: &[Answer]| play(answers, |a| g.cancel(&id, a));
    let now = |status: &str| reply(200, &link(status, &same()));
    assert_eq!(
        cancel(&[now("cancelled")]),
        (vec!["cancel_link"], Ok(Canceled::Closed))
    );
    assert_eq!(
        cancel(&[error(400, "reply_cancel_paid")]).1,
        Ok(Canceled::AlreadyPaid)
    );
    assert_eq!(
        cancel(&[error(400, "reply_cancel_closed")]).1,
        Ok(Canceled::Closed)
    );
    assert!(
        matches!(cancel(&[error(401, "reply_bad_key")]).1, Err(CallError::Rejected { code, .. }) if code == "gateway_credentials")
    );
    for answer in [Answer::NotSent("x".into()), error(429, "reply_throttled")] {
        assert!(matches!(
            cancel(&[answer]).1,
            Err(CallError::Unavailable { .. })
        ));
    }
    for unclear in [
        lost(),
        reply(500, &json!({})),
        now("created"),
        error(400, "reply_no_such_link"),
    ] {
        let seen = |answer: Answer| {
            let (calls, result) = cancel(&[unclear.clone(), answer]);
            assert_eq!(calls, ["cancel_link", "fetch_link"]);
            result
        };
        assert_eq!(seen(now("cancelled")), Ok(Canceled::Closed));
        assert_eq!(seen(now("expired")), Ok(Canceled::Closed));
        assert_eq!(seen(now("paid")), Ok(Canceled::AlreadyPaid));
        assert!(matches!(
            seen(now("created")),
            Err(CallError::Unavailable { .. } | CallError::Rejected { .. })
        ));
        assert!(matches!(seen(lost()), Err(CallError::Unknown { .. })));
    }
}

#[test]
fn canceling_without_an_id_finds_it_first() {
    let g = gateway();
    let nameless = lookup(None);
    let cancel = |answers: &[Answer]| play(answers, |a| g.cancel(&nameless, a));
    assert_eq!(
        cancel(&[list(&[])]),
        (vec!["find_link"], Ok(Canceled::Closed))
    );
    assert_eq!(
        cancel(&[list(&[link("expired", &same())])]).1,
        Ok(Canceled::Closed)
    );
    assert_eq!(cancel(&[list(&[paid_link()])]).1, Ok(Canceled::AlreadyPaid));
    assert_eq!(
        cancel(&[
            list(&[link("created", &same())]),
            reply(200, &link("cancelled", &same()))
        ]),
        (vec!["find_link", "cancel_link"], Ok(Canceled::Closed))
    );
    assert!(matches!(
        cancel(&[lost()]).1,
        Err(CallError::Unavailable { .. })
    ));
}

#[test]
fn the_sdk_and_we_agree_on_every_vector() {
    let vectors = fixture("razorpay/signatures.json");
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let id = vector["id"].as_str().unwrap();
        let secret = vector["secret"].as_str().unwrap();
        let valid = vector["valid"].as_bool().unwrap();
        if vector["kind"] == "webhook" {
            let settings = payment("payment_link", &["another", secret]);
            let g = chatbill_gateways::open(&tenant(&settings)).unwrap();
            let raw = RawWebhook {
                headers: vec![(
                    "x-razorpay-signature".into(),
                    vector["signature"].as_str().unwrap().into(),
                )],
                query: vec![],
                body: vector["raw_body"].as_str().unwrap().as_bytes().to_vec(),
            };
            assert_eq!(g.verify(raw).is_ok(), valid, "{id}");
        } else {
            // The browser's redirect is signed too. It is never believed, but the text it signs is the same HMAC.
            let signed = hmac_sha256(
                secret.as_bytes(),
                vector["string_to_sign"].as_str().unwrap().as_bytes(),
            );
            assert_eq!(
                vector["signature"].as_str().unwrap() == hex::encode(signed),
                valid,
                "{id}"
            );
        }
    }
}

#[test]
fn one_changed_bit_anywhere_is_refused() {
    let g = gateway();
    let genuine = signed(bytes("razorpay/hook_payment_link_paid.json"));
    for position in 0..genuine.body.len() {
        let mut raw = genuine.clone();
        raw.body[position] ^= 1;
        assert!(
            matches!(g.verify(raw), Err(Refused::Mismatch)),
            "byte {position}"
        );
    }
    let signature = genuine.header("x-razorpay-signature").unwrap().to_owned();
    for position in 0..signature.len() {
        let mut raw = genuine.clone();
        let mut changed = signature.clone().into_bytes();
        changed[position] = if changed[position] == b'0' {
            b'1'
        } else {
            b'0'
        };
        raw.headers = vec![(
            "x-razorpay-signature".into(),
            String::from_utf8(changed).unwrap(),
        )];
        assert!(g.verify(raw).is_err(), "digit {position}");
    }
    let mut doubled = genuine.clone();
    doubled
        .headers
        .push(("x-razorpay-signature".into(), signature));
    assert!(matches!(g.verify(doubled), Err(Refused::Missing)));
}

fn signals(hook: &Value) -> Vec<Signal> {
    let g = gateway();
    let verified = g.verify(signed(hook.to_string().into_bytes())).unwrap();
    g.read(&verified).unwrap()
}

#[test]
fn every_documented_webhook_is_read() {
    let mut seen = serde_json::Map::new();
    for name in [
        "payment_link_paid",
        "payment_link_paid_upi",
        "payment_link_cancelled",
        "payment_link_expired",
        "payment_authorized_card",
        "payment_captured_upi",
        "payment_failed_card",
        "payment_failed_upi",
        "payment_downtime_started",
        "order_paid_upi",
        "refund_processed",
    ] {
        let hook = fixture(&format!("razorpay/hook_{name}.json"));
        let read: Vec<String> = signals(&hook).iter().map(|s| format!("{s:?}")).collect();
        seen.insert(name.to_owned(), json!(read));
    }
    insta::assert_json_snapshot!("webhooks", Value::Object(seen));
}

#[test]
fn the_event_decides_and_not_the_captured_flag() {
    for (name, status) in [
        ("payment_failed_card", AttemptStatus::Failed),
        ("payment_failed_upi", AttemptStatus::Failed),
        ("payment_authorized_card", AttemptStatus::Authorized),
        ("payment_captured_upi", AttemptStatus::Captured),
    ] {
        let mut hook = fixture(&format!("razorpay/hook_{name}.json"));
        hook["payload"]["payment"]["entity"]["captured"] = json!(true);
        hook["payload"]["payment"]["entity"]["notes"] = json!({"chatbill_reference": REFERENCE});
        let [
            Signal::Payment {
                reference,
                report,
                trust,
            },
        ] = &signals(&hook)[..]
        else {
            panic!("{name}")
        };
        // The card sample has a failure without any reason.
        let reason = (name == "payment_failed_upi").then_some("payment_failed");
        assert_eq!(report.error.as_deref(), reason);
        // A note can be put on a payment by whoever starts a checkout; it may name a bill, but not pay it.
        let expected = if status == AttemptStatus::Failed {
            Trust::Proven
        } else {
            Trust::Hint
        };
        assert_eq!(
            (reference.as_str(), report.status, *trust),
            (REFERENCE, status, expected)
        );
    }
}

/// An authorised payment that nobody captures is given back after some days, and is then shown as refunded.
#[test]
fn money_that_was_given_back_without_being_captured_pays_nothing() {
    let g = gateway();
    let reply = |body: &Value| {
        Answer::Reply(HttpReply {
            status: 200,
            retry_after: None,
            body: body.to_string().into_bytes(),
        })
    };
    let link = json!({"id": "plink_1", "reference_id": REFERENCE, "status": "expired", "amount": 85_000,
        "currency": "INR", "order_id": "order_1", "payments": []});
    for (captured, status) in [
        (false, AttemptStatus::Failed),
        (true, AttemptStatus::Captured),
    ] {
        let payments = json!({"items": [{"id": "pay_1", "amount": 85_000, "currency": "INR", "status": "refunded",
            "captured": captured, "created_at": 1_795_305_600}]});
        let request = LookupRequest {
            reference: reference(),
            ..lookup_request(PaymentMode::PaymentLink, Some("plink_1"))
        };
        let Step::Done(Ok(found)) = g.lookup(&request, &[reply(&link), reply(&payments)]) else {
            panic!("not done")
        };
        assert_eq!(found.reports[0].status, status);
    }
}

#[test]
fn a_bill_is_found_by_link_then_note_then_receipt() {
    let order = |receipt: &str| json!({"entity": {"receipt": receipt, "notes": []}});
    let read = |mode: &str, payload: Value| {
        let g = chatbill_gateways::open(&tenant(&payment(mode, &[SECRET]))).unwrap();
        let mut hook = fixture("razorpay/hook_order_paid_upi.json");
        for (name, entity) in payload.as_object().unwrap() {
            hook["payload"][name] = entity.clone();
        }
        let verified = g.verify(signed(hook.to_string().into_bytes())).unwrap();
        match &g.read(&verified).unwrap()[..] {
            [
                Signal::Payment {
                    reference, trust, ..
                },
            ] => Some(format!("{reference} {trust:?}")),
            _ => None,
        }
    };
    let noted = {
        let mut payment =
            fixture("razorpay/hook_order_paid_upi.json")["payload"]["payment"].clone();
        payment["entity"]["notes"] = json!({"chatbill_reference": "NOTE-1"});
        payment
    };
    let link = json!({"entity": {"reference_id": "LINK-1"}});
    let all = json!({"payment_link": link, "payment": noted, "order": order("RECEIPT-1")});
    assert_eq!(read("payment_link", all).as_deref(), Some("LINK-1 Proven"));
    let two = json!({"payment": noted, "order": order("RECEIPT-1")});
    assert_eq!(read("payment_link", two).as_deref(), Some("NOTE-1 Hint"));
    assert_eq!(
        read("payment_link", json!({"order": order("RECEIPT-1")})).as_deref(),
        Some("RECEIPT-1 Hint")
    );
    assert_eq!(
        read("payment_gateway", json!({"order": order("RECEIPT-1")})),
        None
    );
    assert_eq!(
        read("payment_link", json!({"order": order("rcptid #1")})),
        None
    );
}

#[test]
fn a_partial_payment_reports_what_was_paid() {
    let mut hook = fixture("razorpay/hook_payment_link_paid.json");
    hook["event"] = json!("payment_link.partially_paid");
    hook["payload"]["payment"]["entity"]["amount"] = json!(400);
    let [Signal::Payment { report, .. }] = &signals(&hook)[..] else {
        panic!()
    };
    assert_eq!(
        (report.status, report.amount.get()),
        (AttemptStatus::Captured, 400)
    );
}

#[test]
fn what_is_verified_but_broken_is_said_to_be() {
    let g = gateway();
    let mut nameless = fixture("razorpay/hook_payment_link_paid.json");
    nameless["payload"]["payment"] = Value::Null;
    let mut float = fixture("razorpay/hook_payment_link_paid.json");
    float["payload"]["payment"]["entity"]["amount"] = json!(10.5);
    for body in [
        b"<xml/>".to_vec(),
        b"{}".to_vec(),
        nameless.to_string().into_bytes(),
        float.to_string().into_bytes(),
    ] {
        let verified = g.verify(signed(body)).unwrap();
        assert!(g.read(&verified).is_err());
    }
    assert_eq!(g.acknowledgement(), "ok");
    assert_eq!(g.challenge(&signed(vec![])), None);
}
