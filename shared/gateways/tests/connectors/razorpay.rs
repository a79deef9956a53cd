//! Razorpay.

use chatbill_domain::bill::Bill;
use chatbill_domain::connector::{Gateway, Signal, Trust};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, MAX_CALLS, Obstacle, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Closed, Found, LookupRequest, PaymentMode, PaymentReport,
    PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused};
use chatbill_testkit::builders::{lookup_request, payment_request, refund_request};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Probe, bytes, fixture, lost, printed, read, reply, tenant, with};

const SECRET: &str = "whsec_shop_demo_01";
const REFERENCE: &str = "BM345A-12";

fn payment(mode: &str, webhook_secrets: &[&str]) -> Value {
    json!({
        "mode": mode, "gateway": "razorpay", "configuration_name": "shop-razorpay",
        "credentials": {"key_id": "rzp_test_1", "key_secret": "s3cret", "webhook_secrets": webhook_secrets},
    })
}

/// A tenant whose links open UPI apps only.
fn upi_links() -> Value {
    let mut upi = payment("payment_link", &[SECRET]);
    upi["credentials"]["key_id"] = json!("rzp_live_1");
    upi["credentials"]["upi_link"] = json!(true);
    upi
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
        unsigned: RawWebhook {
            headers: vec![],
            ..signed(bytes("razorpay/hook_payment_link_paid.json"))
        },
        calls: &[
            "create_link",
            "find_link",
            "fetch_link",
            "order_payments",
            "cancel_link",
            "create_upi_link",
            "create_refund",
            "fetch_refund",
            "list_refunds",
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
    link["notes"] = json!({"chatbill_reference": REFERENCE, "chatbill_mark": mark(REFERENCE)});
    for (name, value) in changes.as_object().unwrap() {
        link[name] = value.clone();
    }
    link
}

/// What our links of this order carry.
fn mark(name: &str) -> String {
    let proofs = tenant(&payment("payment_link", &[SECRET])).payment.proofs;
    proofs
        .named_mark(&ReferenceId::parse(name).unwrap())
        .unwrap()
}

/// The name our link has where somebody else holds the order's own.
fn second_name() -> String {
    let proofs = tenant(&payment("payment_link", &[SECRET])).payment.proofs;
    proofs.second_names(&reference()).remove(0)
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
    let upi = chatbill_gateways::open(&tenant(&upi_links())).unwrap();
    insta::assert_json_snapshot!(
        "create_upi_link",
        printed(&call(upi.start(&request(), &[])))
    );
    insta::assert_json_snapshot!("create_refund", printed(&call(g.refund(&refund(), &[]))));
    insta::assert_json_snapshot!(
        "list_refunds",
        printed(&call(g.lookup_refund(&refund(), &[])))
    );
    let known = RefundRequest {
        gateway_refund_id: Some("rfnd_FP8R8EGjGbPkVb".into()),
        ..refund()
    };
    insta::assert_json_snapshot!("fetch_refund", printed(&call(g.lookup_refund(&known, &[]))));
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
    assert_eq!(notes(many(13))["chatbill_reference"], REFERENCE);
    assert_eq!(notes(many(13)).as_object().unwrap().len(), 15);
    // The link's own reference does for the note; nothing does for the mark.
    for full in [14, 15] {
        assert_eq!(notes(many(full)).as_object().unwrap().len(), 15);
        assert_eq!(notes(many(full)).get("chatbill_reference"), None);
        assert_eq!(notes(many(full))["chatbill_mark"], mark(REFERENCE));
    }
    let forged =
        ["chatbill_reference", "chatbill_mark"].map(|name| (name.to_owned(), "other".to_owned()));
    assert_eq!(notes(forged.to_vec())["chatbill_reference"], REFERENCE);
    assert_eq!(notes(forged.to_vec())["chatbill_mark"], mark(REFERENCE));
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
    assert_eq!(faults(&upi_links()), []);
    let mut test_mode = upi_links();
    test_mode["credentials"]["key_id"] = json!("rzp_test_1");
    let impossible = ("/payment/credentials/upi_link".to_owned(), "impossible");
    assert_eq!(faults(&test_mode), std::slice::from_ref(&impossible));
    let mut native = upi_links();
    native["mode"] = json!("payment_gateway");
    assert_eq!(faults(&native), [impossible]);
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
    Bill::read(&document, chatbill_domain::phone::Country::INDIA, reference).unwrap()
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

fn no_refunds() -> Answer {
    reply(
        200,
        &json!({"entity": "collection", "count": 0, "items": []}),
    )
}

#[test]
fn looking_up_a_paid_link_takes_two_calls() {
    let g = gateway();
    for (request, first, answer) in [
        (
            lookup(Some("plink_ExjpAUN3gVHrPJ")),
            "fetch_link",
            reply(200, &paid_link()),
        ),
        (lookup(None), "find_link", list(&[paid_link()])),
    ] {
        let (calls, found) = play(&[answer, no_refunds()], |a| g.lookup(&request, a));
        assert_eq!(calls, [first, "list_refunds"]);
        let found = found.unwrap();
        assert_eq!((found.closed, found.refunds), (None, vec![]));
        let [report] = found.reports.as_slice() else {
            panic!("{:?}", found.reports)
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
fn a_lookup_tells_of_refunds_of_the_dashboard_too() {
    let g = gateway();
    let id = lookup(Some("plink_ExjpAUN3gVHrPJ"));
    let look = |answers: &[Answer]| play(answers, |a| g.lookup(&id, a));
    let paid = || reply(200, &paid_link());
    let (_, found) = look(&[paid(), reply(200, &fixture("razorpay/reply_refunds.json"))]);
    let seen: Vec<_> = found
        .unwrap()
        .refunds
        .into_iter()
        .map(|r| (r.id.unwrap(), r.name, r.amount.get(), r.status))
        .collect();
    assert_eq!(
        seen,
        [
            (
                "rfnd_FP8DDKxqJif6ca".to_owned(),
                Some("rfnd_FP8DDKxqJif6ca".to_owned()),
                300_100,
                RefundStatus::Processed
            ),
            (
                "rfnd_FP8DRfu3ygfOaC".to_owned(),
                Some("rfnd_FP8DRfu3ygfOaC".to_owned()),
                200_000,
                RefundStatus::Processed
            ),
        ]
    );
    // What cannot be asked now is asked again; what is refused leaves the payment known.
    for answer in [lost(), reply(500, &json!({})), reply(200, &json!({}))] {
        let (_, result) = look(&[paid(), answer]);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    let broken = json!({"items": [{"id": "rfnd_1"}]});
    assert!(look(&[paid(), reply(200, &broken)]).1.is_err());
    let (_, found) = look(&[paid(), error(400, "reply_no_such_link")]);
    assert_eq!(found.unwrap().reports.len(), 1);

    // The payments of an order say themselves whether something went back.
    let open = || {
        reply(
            200,
            &link("expired", &json!({"order_id": "order_N8FRN5zTm5S3wx"})),
        )
    };
    let paid_by = |changes: &[Value]| {
        let items: Vec<Value> = (0..).zip(changes).map(|(n, changes)| {
            let mut payment = json!({"id": format!("pay_{n}"), "amount": 84_000, "currency": "INR", "status": "captured", "captured": true});
            for (name, value) in changes.as_object().unwrap() {
                payment[name] = value.clone();
            }
            payment
        }).collect();
        reply(200, &json!({"items": items}))
    };
    for changes in [
        json!({"amount_refunded": 100}),
        json!({"refund_status": "partial", "amount_refunded": null}),
        json!({"status": "refunded", "refund_status": "full"}),
    ] {
        let (calls, found) = look(&[open(), paid_by(&[changes]), no_refunds()]);
        assert_eq!(calls, ["fetch_link", "order_payments", "list_refunds"]);
        assert_eq!(found.unwrap().refunds, []);
    }
    // Money that was never captured went back by itself: no refund, and nothing to ask.
    let never = json!({"status": "refunded", "captured": false, "amount_refunded": 84_000, "refund_status": "full"});
    let (_, found) = look(&[
        open(),
        paid_by(&[json!({"amount_refunded": 0, "refund_status": null}), never]),
    ]);
    let statuses: Vec<_> = found.unwrap().reports.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [AttemptStatus::Captured, AttemptStatus::Failed]);
    // However many payments there are, the conversation ends.
    let many = vec![json!({"amount_refunded": 100}); 9];
    let mut answers = vec![open(), paid_by(&many)];
    answers.extend((2..MAX_CALLS).map(|_| no_refunds()));
    assert_eq!(look(&answers).1.unwrap().reports.len(), 9);
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
    let (_, found) = look(&[open(), reply(200, &refunded)]);
    assert_eq!(found.unwrap().reports[0].status, AttemptStatus::Captured);
    // An order that cannot be asked leaves what the link lists.
    let listed = link(
        "expired",
        &json!({"order_id": "order_N8FRN5zTm5S3wx", "payments": paid_link()["payments"]}),
    );
    let (calls, found) = look(&[reply(200, &listed), lost(), no_refunds()]);
    assert_eq!(calls, ["fetch_link", "order_payments", "list_refunds"]);
    assert_eq!(found.unwrap().reports[0].payment_id, "pay_N1");
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
            reply(200, &link("paid", &json!({"id": "plink_other"}))),
            "link_other_id",
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

/// Field report B04: a text cut in the middle of an emoji.
#[test]
fn half_a_character_does_not_cost_the_event() {
    let body = br#"{"event":"payment.failed","payload":{"payment":{"entity":{"id":"pay_1","amount":85000,"currency":"INR","status":"failed","error_description":"Card \ud83c declined","notes":{"chatbill_reference":"BM345A-12"}}}}}"#;
    let g = gateway();
    let verified = g.verify(signed(body.to_vec())).unwrap();
    let heard = g.read(&verified).unwrap();
    let [Signal::Payment { report, .. }] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!(
        (report.status, report.amount.get()),
        (AttemptStatus::Failed, 85_000)
    );
    // The signature is over the bytes as they came.
    let mended = String::from_utf8(body.to_vec()).unwrap();
    let mut other = signed(body.to_vec());
    other.body = mended.replace("\\ud83c", "\\ufffd").into_bytes();
    assert!(matches!(g.verify(other), Err(Refused::Mismatch)));
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
        "refund_created",
        "refund_processed",
        "refund_failed",
        "refund_speed_changed",
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
        // A note can be put on a payment by whoever starts a checkout; it may name a bill, but neither pay it nor fail it.
        assert_eq!(
            (reference.as_str(), report.status, trust),
            (REFERENCE, status, &Trust::Hint)
        );
    }
}

/// Bills paid inside WhatsApp through a provider that cannot be asked: the note comes with a proof over bill and amount.
#[test]
fn a_note_with_its_proof_pays_a_native_bill_of_that_amount() {
    let bill = ReferenceId::parse(REFERENCE).unwrap();
    let hook = |notes: &Value, on: &str| {
        let mut hook = fixture("razorpay/hook_order_paid_upi.json");
        for entity in ["payment", "order"] {
            let notes = if entity == on {
                notes.clone()
            } else {
                json!([])
            };
            hook["payload"][entity]["entity"]["notes"] = notes;
        }
        hook
    };
    let amount = hook(&json!([]), "payment")["payload"]["payment"]["entity"]["amount"]
        .as_i64()
        .unwrap();
    let native = tenant(&payment("payment_gateway", &[SECRET]));
    let issue = |tenant: &Tenant, reference: &ReferenceId, amount: i64| {
        let amount = Paise::new(amount).unwrap();
        tenant.payment.proofs.issue(reference, amount).unwrap()
    };
    let trust = |mode: &str, hook: &Value| {
        let g = chatbill_gateways::open(&tenant(&payment(mode, &[SECRET]))).unwrap();
        let verified = g.verify(signed(hook.to_string().into_bytes())).unwrap();
        match &g.read(&verified).unwrap()[..] {
            [
                Signal::Payment {
                    reference,
                    report,
                    trust,
                },
            ] => {
                assert_eq!(reference.as_str(), REFERENCE);
                assert_eq!(report.amount.get(), amount);
                trust.clone()
            }
            other => panic!("{other:?}"),
        }
    };
    let proof = issue(&native, &bill, amount);
    let notes = |proof: &str| json!({"chatbill_reference": REFERENCE, "chatbill_proof": proof, "counter": "3"});
    for on in ["payment", "order"] {
        let good = hook(&notes(&proof), on);
        assert_eq!(trust("payment_gateway", &good), Trust::Proven, "{on}");
        // The bill may have gone out before the tenant changed its mode.
        assert_eq!(trust("payment_link", &good), Trust::Proven, "{on}");
        let mut other = good.clone();
        other["payload"]["payment"]["entity"]["amount"] = json!(amount - 1);
        other["payload"]["order"]["entity"]["amount"] = json!(amount - 1);
        let g = chatbill_gateways::open(&native).unwrap();
        let verified = g.verify(signed(other.to_string().into_bytes())).unwrap();
        assert!(matches!(
            &g.read(&verified).unwrap()[..],
            [Signal::Payment {
                trust: Trust::Hint,
                ..
            }]
        ));
    }
    let another = ReferenceId::parse("another").unwrap();
    for bad in [
        issue(&native, &bill, amount + 1),
        issue(&native, &another, amount),
        proof.to_uppercase(),
        proof[..63].to_owned(),
        String::new(),
    ] {
        let forged = hook(&notes(&bad), "payment");
        assert_eq!(trust("payment_gateway", &forged), Trust::Hint, "{bad}");
    }
    // The proof of one note does not lend itself to the other.
    let mut split = hook(&json!({"chatbill_reference": REFERENCE}), "payment");
    split["payload"]["order"]["entity"]["notes"] =
        json!({"chatbill_reference": "another", "chatbill_proof": proof});
    assert_eq!(trust("payment_gateway", &split), Trust::Hint);
}

/// And its refunds, also those of the dashboard: nobody else tells of them.
#[test]
fn a_payment_with_its_proof_proves_its_refunds() {
    let amount = 85_000;
    let native = tenant(&payment("payment_gateway", &[SECRET]));
    let bill = ReferenceId::parse(REFERENCE).unwrap();
    let proof = native
        .payment
        .proofs
        .issue(&bill, Paise::new(amount).unwrap())
        .unwrap();
    let mut hook = fixture("razorpay/hook_refund_processed.json");
    let payload = &mut hook["payload"];
    let refunded = payload["refund"]["entity"]["payment_id"].clone();
    payload["refund"]["entity"]["notes"] = json!([]);
    payload["payment"]["entity"]["id"] = refunded.clone();
    payload["payment"]["entity"]["amount"] = json!(amount);
    payload["payment"]["entity"]["notes"] =
        json!({"chatbill_reference": REFERENCE, "chatbill_proof": proof});
    let trust = |mode: &str, change: &dyn Fn(&mut Value)| {
        let mut hook = hook.clone();
        change(&mut hook["payload"]);
        let g = chatbill_gateways::open(&tenant(&payment(mode, &[SECRET]))).unwrap();
        let verified = g.verify(signed(hook.to_string().into_bytes())).unwrap();
        match &g.read(&verified).unwrap()[..] {
            [
                Signal::Refund {
                    reference,
                    report,
                    trust,
                },
            ] => {
                assert_eq!(reference.as_str(), REFERENCE);
                assert_eq!(json!(report.payment_id), refunded);
                trust.clone()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(trust("payment_gateway", &|_| ()), Trust::Proven);
    assert_eq!(trust("payment_link", &|_| ()), Trust::Proven);
    let forgeries: [&dyn Fn(&mut Value); 3] = [
        &|p| p["payment"]["entity"]["amount"] = json!(amount + 1),
        &|p| p["payment"]["entity"]["id"] = json!("pay_another"),
        &|p| p["payment"]["entity"]["notes"]["chatbill_proof"] = json!("0".repeat(64)),
    ];
    for forged in forgeries {
        assert_eq!(trust("payment_gateway", forged), Trust::Hint);
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
    let link = json!({"entity": {"id": "plink_1", "reference_id": "LINK-1"}});
    let all = json!({"payment_link": link, "payment": noted, "order": order("RECEIPT-1")});
    assert_eq!(
        read("payment_link", all).as_deref(),
        Some("LINK-1 OwnLink(\"plink_1\")")
    );
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

/// What a link's event says, for tenant "acme" on an account it shares. Field report B01: every event of an account goes to every
/// configured URL.
fn of_link(link: &Value) -> String {
    let hook = json!({"event": "payment_link.paid", "payload": {
        "payment_link": {"entity": link},
        "payment": {"entity": {"id": "pay_FOREIGN1", "amount": 85000, "currency": "INR", "status": "captured",
            "captured": true, "method": "upi", "created_at": 1_780_000_000, "notes": []}},
    }});
    match &signals(&hook)[..] {
        [
            Signal::Payment {
                reference, trust, ..
            },
        ] => format!("{reference} {trust:?}"),
        [Signal::Foreign(_)] => "foreign".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_is_proven_by_its_mark_alone() {
    let link = |changes: Value| {
        let mut link = json!({"id": "plink_FOREIGN1", "reference_id": "1001", "amount": 85000, "status": "paid", "notes": []});
        for (name, value) in changes.as_object().unwrap() {
            link[name] = value.clone();
        }
        of_link(&link)
    };
    // The dashboard's, or of a shop that does without Chatbill: the order knows the id it was given.
    let unproven = "1001 OwnLink(\"plink_FOREIGN1\")";
    assert_eq!(link(json!({})), unproven);
    assert_eq!(
        link(json!({"notes": {"chatbill_reference": "1001"}})),
        unproven
    );
    // Ours.
    let notes = json!({"chatbill_reference": "1001", "chatbill_mark": mark("1001")});
    assert_eq!(link(json!({"notes": notes})), "1001 Proven");
    assert_eq!(
        link(json!({"notes": {"chatbill_mark": mark("1001")}})),
        "1001 Proven"
    );
    // Our mark of another order.
    let notes = json!({"chatbill_reference": "1001", "chatbill_mark": mark("1002")});
    assert_eq!(link(json!({"notes": notes})), unproven);
    // Another tenant's.
    let others = mark("1001").replace("acme.", "bina.");
    let notes = json!({"chatbill_reference": "1001", "chatbill_mark": others});
    assert_eq!(link(json!({"notes": notes})), "foreign");
    // Nothing names a bill.
    assert_eq!(link(json!({"reference_id": null})), "foreign");
    assert_eq!(link(json!({"reference_id": "a b"})), "foreign");
}

#[test]
fn a_payment_that_another_tenants_note_names_is_foreign() {
    let mut hook = fixture("razorpay/hook_payment_captured_upi.json");
    let said = |hook: &Value| format!("{:?}", signals(hook));
    hook["payload"]["payment"]["entity"]["notes"] =
        json!({"chatbill_reference": REFERENCE, "chatbill_mark": mark(REFERENCE)});
    // A link's notes are on its payments, and on those of whoever copies them.
    assert!(said(&hook).contains("trust: Hint"), "{}", said(&hook));
    let others = mark(REFERENCE).replace("acme.", "bina.");
    hook["payload"]["payment"]["entity"]["notes"]["chatbill_mark"] = json!(others);
    assert!(said(&hook).contains("Foreign"), "{}", said(&hook));
    hook["payload"]["payment"]["entity"]["notes"] = json!([]);
    assert!(said(&hook).contains("Foreign"), "{}", said(&hook));
}

/// Field reports B02 and B03: the proof is over the bill, the payment has the fee on top or the offer off.
#[test]
fn a_fee_or_an_offer_does_not_break_a_native_proof() {
    let proofs = tenant(&payment("payment_gateway", &[SECRET]))
        .payment
        .proofs;
    let proof = proofs
        .issue(&reference(), Paise::new(85_000).unwrap())
        .unwrap();
    let notes = json!({"chatbill_reference": REFERENCE, "chatbill_proof": proof});
    let said = |payment: Value, order: Value| {
        let mut hook = fixture("razorpay/hook_order_paid_upi.json");
        for (entity, changes) in [("payment", payment), ("order", order)] {
            hook["payload"][entity]["entity"]["notes"] = notes.clone();
            for (name, value) in changes.as_object().unwrap() {
                hook["payload"][entity]["entity"][name] = value.clone();
            }
        }
        match &signals(&hook)[..] {
            [Signal::Payment { trust, .. }] => trust.clone(),
            other => panic!("{other:?}"),
        }
    };
    let (more, less, other) = (
        json!({"amount": 86_003, "fee": 1003, "tax": 153}),
        json!({"amount": 80_000, "fee": null}),
        json!({"amount": 86_004, "fee": 1003}),
    );
    let (bill, unknown) = (json!({"amount": 85_000}), json!({"amount": 1}));
    assert_eq!(said(more, unknown.clone()), Trust::Proven);
    assert_eq!(said(less, bill), Trust::Proven);
    assert_eq!(said(other, unknown), Trust::Hint);
}

#[test]
fn a_strangers_link_is_not_adopted() {
    let g = gateway();
    let foreign = || link("created", &json!({"id": "plink_FOREIGN1", "notes": []}));
    let ours = || link("created", &json!({"reference_id": second_name()}));
    let taken = || error(400, "reply_duplicate_seen");
    let again = PaymentRequest {
        maybe_exists: true,
        ..request()
    };
    // Somebody else's link holds the reference: ours gets the second name.
    for strangers in [
        vec![foreign()],
        vec![link(
            "paid",
            &json!({"notes": {"chatbill_mark": mark("BM345A-99")}}),
        )],
        vec![link(
            "created",
            &json!({"notes": {"chatbill_mark": mark(REFERENCE).replace("acme.", "bina.")}}),
        )],
    ] {
        let answers = [taken(), list(&strangers), reply(200, &ours())];
        assert_eq!(
            play(&answers, |a| g.start(&request(), a)),
            (
                vec!["create_link", "find_link", "create_link"],
                Ok(started())
            )
        );
    }
    // Its answer was lost: it is found under that name, and only there.
    let answers = [list(&[foreign()]), list(&[ours()])];
    assert_eq!(
        play(&answers, |a| g.start(&again, a)),
        (vec!["find_link", "find_link"], Ok(started()))
    );
    // Among a stranger's, ours is the one that is taken.
    let mine = link("created", &same());
    let answers = [list(&[foreign(), mine])];
    assert_eq!(
        play(&answers, |a| g.start(&again, a)),
        (vec!["find_link"], Ok(started()))
    );
    // The second name is asked for.
    let Step::Call(call) = g.start(&request(), &[taken(), list(&[foreign()])]) else {
        panic!("no call")
    };
    assert_eq!(
        printed(&call)["body"]["content"]["reference_id"],
        json!(second_name())
    );
    assert!(second_name().len() <= 40);
    // Both names are somebody else's: a clear answer instead of an endless one.
    let second = link(
        "created",
        &json!({"reference_id": second_name(), "notes": []}),
    );
    let answers = [list(&[foreign()]), list(&[second])];
    let (_, result) = play(&answers, |a| g.start(&again, a));
    assert!(
        matches!(&result, Err(CallError::Rejected { code, .. }) if code == "reference_taken"),
        "{result:?}"
    );
}

#[test]
fn an_event_of_the_second_name_finds_its_order() {
    let link = json!({"id": "plink_1", "reference_id": second_name(), "amount": 85000, "status": "paid", "notes": []});
    assert_eq!(of_link(&link), format!("{REFERENCE} OwnLink(\"plink_1\")"));
    let other = json!({"id": "plink_1", "reference_id": format!("{REFERENCE}-abcd"), "notes": []});
    assert_eq!(
        of_link(&other),
        format!("{REFERENCE}-abcd OwnLink(\"plink_1\")")
    );
}

#[test]
fn payments_of_a_strangers_link_are_not_reported() {
    let g = gateway();
    let mut stranger = paid_link();
    stranger["notes"] = json!({"chatbill_reference": REFERENCE});
    let unknown = LookupRequest {
        reference: reference(),
        ..lookup_request(PaymentMode::PaymentLink, None)
    };
    let (calls, result) = play(&[list(&[stranger.clone()]), list(&[])], |a| {
        g.lookup(&unknown, a)
    });
    assert_eq!(calls, ["find_link", "find_link"]);
    assert_eq!(result, Ok(Found::default()));
    let (calls, result) = play(&[list(&[stranger]), list(&[])], |a| g.cancel(&unknown, a));
    assert_eq!(calls, ["find_link", "find_link"]);
    assert_eq!(result, Ok(Canceled::Closed));
    // By id, the answer must be about that id.
    let known = LookupRequest {
        reference: reference(),
        ..lookup_request(PaymentMode::PaymentLink, Some("plink_OURS"))
    };
    let (_, result) = play(&[reply(200, &paid_link())], |a| g.lookup(&known, a));
    assert!(
        matches!(&result, Err(CallError::Rejected { code, .. }) if code == "link_other_id"),
        "{result:?}"
    );
    // A bill paid inside WhatsApp has no link.
    let native = LookupRequest {
        reference: reference(),
        ..lookup_request(PaymentMode::PaymentGateway, None)
    };
    let (calls, result) = play(&[], |a| g.lookup(&native, a));
    assert!(calls.is_empty());
    assert!(matches!(result, Err(CallError::Unsupported(_))));
}

/// A payment's sum, and what the report says of it: paid in full, fee.
fn told(report: &PaymentReport) -> (i64, Option<i64>, Option<i64>) {
    let paise = |amount: Option<Paise>| amount.map(Paise::get);
    (
        report.amount.get(),
        paise(report.paid_in_full),
        paise(report.fee),
    )
}

/// Field reports B02 (the customer bears the fee) and B03 (an offer of the gateway), and their relatives.
#[test]
fn a_paid_link_says_that_another_sum_pays_all_of_it() {
    let hook = |link: Value, payment: Value| {
        json!({"event": "payment_link.paid", "payload": {
            "payment_link": {"entity": with(&json!({
                "id": "plink_1", "reference_id": REFERENCE, "amount": 85_000, "status": "paid",
            }), &link)},
            "payment": {"entity": with(&json!({
                "id": "pay_1", "currency": "INR", "status": "captured", "captured": true,
                "created_at": 1_780_000_000, "notes": [],
            }), &payment)},
        }})
    };
    let fee = json!({"amount": 86_003, "fee": 1_003, "tax": 153, "fee_bearer": "customer", "method": "card"});
    let offer = json!({"amount": 80_000, "offer_id": "offer_1"});
    let covered = json!({"amount_paid": 85_000});
    let whole = json!({"amount_paid": 85_000, "accept_partial": false});
    let plain = |amount: i64| json!({"amount": amount});
    for (link, payment, expected) in [
        (&covered, &fee, (86_003, Some(85_000), Some(1_003))),
        (&same(), &fee, (86_003, Some(85_000), Some(1_003))),
        (&covered, &plain(86_003), (86_003, Some(85_000), None)),
        (
            &same(),
            &json!({"amount": 86_003, "fee": 1_003}),
            (86_003, Some(85_000), Some(1_003)),
        ),
        (&same(), &offer, (80_000, Some(85_000), None)),
        (
            &json!({"amount_paid": 80_000}),
            &offer,
            (80_000, Some(85_000), None),
        ),
        // Less without an offer may be a part, and one paisa less is no offer.
        (&whole, &plain(84_999), (84_999, None, None)),
        // Both.
        (
            &covered,
            &with(&fee, &json!({"amount": 81_003, "offer_id": "offer_1"})),
            (81_003, Some(85_000), Some(1_003)),
        ),
        // The fee the shop bears is no matter of the bill's.
        (
            &covered,
            &json!({"amount": 85_000, "fee": 1_003, "fee_bearer": "platform"}),
            (85_000, None, None),
        ),
        // A link that was paid with more than it asked for is no fee's doing.
        (
            &json!({"amount_paid": 85_001}),
            &plain(85_001),
            (85_001, None, None),
        ),
        // Nothing says why.
        (&same(), &plain(86_003), (86_003, None, None)),
        (&covered, &plain(45_000), (45_000, None, None)),
        (
            &json!({"amount_paid": 85_000, "accept_partial": true}),
            &plain(45_000),
            (45_000, None, None),
        ),
        (
            &json!({"status": "partially_paid", "amount_paid": 80_000}),
            &offer,
            (80_000, None, None),
        ),
        (
            &json!({"amount_paid": 80_000}),
            &with(&fee, &json!({"amount": 90_000})),
            (90_000, None, None),
        ),
    ] {
        let hook = hook(link.clone(), payment.clone());
        let read = signals(&hook);
        let [Signal::Payment { report, .. }] = &read[..] else {
            panic!("{read:?}")
        };
        assert_eq!(told(report), expected, "{hook}");
    }
    // Without link and order, the fee tells what was asked for.
    let mut bare = hook(same(), fee);
    bare["event"] = json!("payment.captured");
    bare["payload"]["payment_link"] = Value::Null;
    bare["payload"]["payment"]["entity"]["notes"] = json!({"chatbill_reference": REFERENCE});
    let read = signals(&bare);
    let [Signal::Payment { report, trust, .. }] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(
        (told(report), trust.clone()),
        ((86_003, Some(85_000), Some(1_003)), Trust::Hint)
    );
    // What is not captured pays nothing.
    bare["event"] = json!("payment.authorized");
    let read = signals(&bare);
    let [Signal::Payment { report, .. }] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(told(report), (86_003, None, None));
}

#[test]
fn looking_up_a_link_paid_with_another_sum_asks_why() {
    let g = gateway();
    let id = lookup(Some("plink_ExjpAUN3gVHrPJ"));
    let look = |answers: &[Answer]| play(answers, |a| g.lookup(&id, a));
    let paid = |amount: i64, changes: Value| {
        let mut link = paid_link();
        link["payments"][0]["amount"] = json!(amount);
        reply(200, &with(&link, &changes))
    };
    let order = |changes: Value| {
        let payment = with(
            &json!({"id": "pay_N1", "amount": 85_003, "currency": "INR", "status": "captured", "captured": true}),
            &changes,
        );
        reply(
            200,
            &json!({"entity": "collection", "count": 1, "items": [payment]}),
        )
    };
    let covered = || json!({"amount_paid": 84_000, "accept_partial": false});
    for (amount, link, payment, expected) in [
        (
            85_003,
            same(),
            json!({"fee": 1_003, "fee_bearer": "customer"}),
            (85_003, Some(84_000), Some(1_003)),
        ),
        (
            80_000,
            same(),
            json!({"amount": 80_000, "offer_id": "offer_1"}),
            (80_000, Some(84_000), None),
        ),
        (85_003, covered(), same(), (85_003, Some(84_000), None)),
        (
            85_003,
            json!({"amount_paid": 0}),
            same(),
            (85_003, None, None),
        ),
    ] {
        let (calls, found) = look(&[paid(amount, link), order(payment)]);
        assert_eq!(calls, ["fetch_link", "order_payments"]);
        assert_eq!(told(&found.unwrap().reports[0]), expected);
    }
    // An order that is not shown leaves the link's own word; one that did not answer is asked again.
    let refused = || refusal(400, "The id provided does not exist");
    let (calls, found) = look(&[paid(85_003, covered()), refused(), no_refunds()]);
    assert_eq!(calls, ["fetch_link", "order_payments", "list_refunds"]);
    assert_eq!(
        told(&found.unwrap().reports[0]),
        (85_003, Some(84_000), None)
    );
    assert!(matches!(
        look(&[paid(85_003, covered()), lost()]).1,
        Err(CallError::Unavailable { .. })
    ));
}

/// In native mode the proof is over what was asked for, and the customer may bear a fee or use an offer all the same.
#[test]
fn a_proof_counts_with_fee_and_offer() {
    let bill = ReferenceId::parse(REFERENCE).unwrap();
    let native = tenant(&payment("payment_gateway", &[SECRET]));
    let total = Paise::new(85_000).unwrap();
    let proof = native.payment.proofs.issue(&bill, total).unwrap();
    let notes = json!({"chatbill_reference": REFERENCE, "chatbill_proof": proof});
    let trust = |event: &str, order: Value, changes: Value| {
        let g = chatbill_gateways::open(&native).unwrap();
        let payment = with(
            &json!({"id": "pay_1", "amount": 86_003, "currency": "INR", "status": "captured", "notes": notes}),
            &changes,
        );
        let hook = json!({"event": event, "payload": {
            "payment": {"entity": payment}, "order": {"entity": order},
        }});
        let verified = g.verify(signed(hook.to_string().into_bytes())).unwrap();
        match &g.read(&verified).unwrap()[..] {
            [Signal::Payment { report, trust, .. }] => (trust.clone(), report.paid_in_full),
            other => panic!("{other:?}"),
        }
    };
    let paid = || json!({"amount": 85_000, "amount_paid": 85_000, "status": "paid"});
    let fee = || json!({"fee": 1_003, "fee_bearer": "customer"});
    let offer = || json!({"amount": 80_000, "offer_id": "offer_1"});
    for (event, order, changes, expected) in [
        ("payment.captured", Value::Null, fee(), Trust::Proven),
        ("order.paid", paid(), fee(), Trust::Proven),
        ("order.paid", paid(), offer(), Trust::Proven),
        ("payment.captured", Value::Null, offer(), Trust::Hint),
        ("payment.captured", Value::Null, same(), Trust::Hint),
    ] {
        let (trust, in_full) = trust(event, order, changes);
        assert_eq!(trust, expected, "{event}");
        assert_eq!(in_full.is_some(), expected == Trust::Proven, "{event}");
    }
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

const TOKEN: &str = "k7m2p9q4r6s8t3v5w2x7";

fn refund() -> RefundRequest {
    RefundRequest {
        reference: reference(),
        ..refund_request(PaymentMode::PaymentLink, "pay_29QQoUBi66xm2f")
    }
}

/// Our refund as Razorpay shows it.
fn our_refund(changes: &Value) -> Value {
    let mut refund = fixture("razorpay/reply_refund.json");
    refund["amount"] = json!(10_000);
    refund["receipt"] = json!(TOKEN);
    for (name, value) in changes.as_object().unwrap() {
        refund[name] = value.clone();
    }
    refund
}

fn refusal(status: u16, description: &str) -> Answer {
    let mut body = fixture("razorpay/reply_bad_key.json");
    body["error"]["description"] = json!(description);
    reply(status, &body)
}

fn reported() -> RefundReport {
    RefundReport {
        status: RefundStatus::Processed,
        id: Some("rfnd_FP8R8EGjGbPkVb".into()),
        name: Some(TOKEN.into()),
        payment_id: "pay_29QQoUBi66xm2f".into(),
        amount: Paise::new(10_000).unwrap(),
        speed: Some(Speed::Normal),
        bank_reference: None,
        error: None,
        at: Some(Millis::from_seconds(1_597_078_914)),
    }
}

#[test]
fn giving_money_back() {
    let g = gateway();
    let give = |answers: &[Answer]| play(answers, |a| g.refund(&refund(), a));
    assert_eq!(
        give(&[reply(200, &our_refund(&same()))]),
        (vec!["create_refund"], Ok(reported()))
    );
    for (changes, status, speed, bank) in [
        (
            json!({"status": "pending", "speed_processed": null}),
            RefundStatus::Pending,
            None,
            None,
        ),
        (
            json!({"status": "queued", "speed_processed": "optimum", "acquirer_data": {}}),
            RefundStatus::Pending,
            None,
            None,
        ),
        (
            json!({"status": "failed", "acquirer_data": []}),
            RefundStatus::Failed,
            Some(Speed::Normal),
            None,
        ),
        (
            json!({"speed_processed": "instant", "acquirer_data": {"rrn": "103608848276"}}),
            RefundStatus::Processed,
            Some(Speed::Instant),
            Some("103608848276"),
        ),
        // The documents print answers without the receipt that was sent; the key says whose it is.
        (
            json!({"receipt": null, "notes": [], "acquirer_data": {"arn": null, "utr": "U1"}}),
            RefundStatus::Processed,
            Some(Speed::Normal),
            Some("U1"),
        ),
    ] {
        let report = give(&[reply(200, &our_refund(&changes))]).1.unwrap();
        assert_eq!(
            (
                report.status,
                report.speed,
                report.bank_reference.as_deref()
            ),
            (status, speed, bank),
            "{changes}"
        );
        assert_eq!(report.name.as_deref(), Some(TOKEN));
    }
}

#[test]
fn the_same_refund_asks_with_the_same_bytes_and_key() {
    let g = gateway();
    let sent = |request: &RefundRequest| {
        let call = call(g.refund(request, &[]));
        (
            call.headers,
            String::from_utf8(call.body.unwrap().1).unwrap(),
        )
    };
    let (headers, body) = sent(&refund());
    assert_eq!(headers, [("X-Refund-Idempotency", TOKEN.to_owned())]);
    let later = RefundRequest {
        now: refund().now.plus_seconds(86_400),
        before: Paise::new(5_000).unwrap(),
        same_amount_at: Some(refund().now),
        gateway_refund_id: None,
        ..refund()
    };
    assert_eq!(sent(&later), (headers, body));
    let instant = RefundRequest {
        speed: Speed::Instant,
        reason: Some("x".repeat(400)),
        ..refund()
    };
    let body: Value = serde_json::from_str(&sent(&instant).1).unwrap();
    assert_eq!(body["speed"], "optimum");
    assert_eq!(body["notes"]["reason"].as_str().unwrap().len(), 255);
    let silent = RefundRequest {
        reason: None,
        ..refund()
    };
    let body: Value = serde_json::from_str(&sent(&silent).1).unwrap();
    assert_eq!(
        body["notes"],
        json!({"chatbill_reference": REFERENCE, "chatbill_refund": TOKEN})
    );
}

#[test]
fn a_refund_that_did_not_go_through_is_sorted_by_what_may_be_done_next() {
    let g = gateway();
    let give = |answers: &[Answer]| play(answers, |a| g.refund(&refund(), a));
    // Safe to ask again.
    for answer in [
        Answer::NotSent("connection refused".into()),
        error(429, "reply_throttled"),
        refusal(
            409,
            "Another request with the same idempotency key is still in progress.",
        ),
        refusal(409, "anything else"),
    ] {
        let (calls, result) = give(&[answer]);
        assert_eq!(calls, ["create_refund"]);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    // It may have happened.
    for answer in [
        lost(),
        reply(500, &json!({})),
        refusal(
            500,
            "Internal server error - Failed to fetch idempotency record",
        ),
        refusal(408, "timeout"),
        reply(200, &json!({})),
        reply(200, &our_refund(&json!({"amount": 9_999}))),
        reply(200, &our_refund(&json!({"payment_id": "pay_other"}))),
        reply(200, &our_refund(&json!({"currency": "USD"}))),
        Answer::Reply(HttpReply {
            status: 504,
            retry_after: None,
            body: b"<html>".to_vec(),
        }),
    ] {
        let (calls, result) = give(&[answer]);
        assert_eq!(calls, ["create_refund"]);
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
    }
    // A clear no.
    for (answer, code) in [
        (
            refusal(400, "The amount must be at least INR 1.00"),
            "refund_too_small",
        ),
        (error(400, "reply_refund_too_old"), "refund_too_old"),
        (
            refusal(400, "_29QQoUBi66xm2f is not a valid id"),
            "refund_no_payment",
        ),
        (
            refusal(400, "The id provided does not exist"),
            "refund_no_payment",
        ),
        (
            refusal(400, "extra is/are not required and should not be sent"),
            "BAD_REQUEST_ERROR",
        ),
        (error(401, "reply_bad_key"), "gateway_credentials"),
        (reply(404, &json!("nothing")), "http_404"),
    ] {
        let (calls, result) = give(&[answer]);
        assert_eq!(calls, ["create_refund"]);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{code}: {result:?}"
        );
    }
}

/// Field report B18 and its relatives: 400, and the same refund works a day later.
#[test]
fn a_refund_short_of_balance_is_not_now() {
    let g = gateway();
    let give = |answers: &[Answer]| play(answers, |a| g.refund(&refund(), a));
    let with_reason = {
        let mut body = fixture("razorpay/reply_bad_key.json");
        body["error"]["description"] = json!("The refund could not be processed.");
        body["error"]["reason"] = json!("insufficient_account_balance");
        reply(400, &body)
    };
    for answer in [
        refusal(
            400,
            "Your account does not have enough balance to carry out the refund operation.",
        ),
        refusal(
            400,
            "Your account does not have enough credits to carry out the refund operation. You can add credits in the dashboard.",
        ),
        refusal(400, "Insufficient funds"),
        refusal(422, "insufficient balance"),
        refusal(400, "invalid request sent"),
        refusal(400, "Invalid request."),
        with_reason,
    ] {
        let (calls, error) = give(&[answer]);
        assert_eq!(calls, ["create_refund"]);
        assert!(
            matches!(
                error,
                Err(CallError::NotNow {
                    obstacle: Obstacle::InsufficientBalance,
                    ..
                })
            ),
            "{error:?}"
        );
    }
    // A request that says what is invalid in it stays refused; a broken server may have done it all the same.
    let (_, error) = give(&[refusal(400, "invalid request: speed is not allowed")]);
    assert!(
        matches!(error, Err(CallError::Rejected { .. })),
        "{error:?}"
    );
    let (_, error) = give(&[refusal(502, "insufficient balance")]);
    assert!(matches!(error, Err(CallError::Unknown { .. })), "{error:?}");
}

/// How long Razorpay remembers a key is not documented. What looks like a refusal may be our own refund of before.
#[test]
fn a_refusal_that_our_own_refund_may_have_caused_is_looked_into() {
    let g = gateway();
    let give = |answers: &[Answer]| play(answers, |a| g.refund(&refund(), a));
    let others = || reply(200, &fixture("razorpay/reply_refunds.json"));
    let ours = || reply(200, &json!({"items": [our_refund(&same())]}));
    let rejections = [
        (
            refusal(
                400,
                "The refund amount provided is greater than amount captured",
            ),
            "refund_too_large",
        ),
        (
            refusal(400, "The payment has been fully refunded already."),
            "refund_complete",
        ),
    ];
    for (answer, code) in rejections {
        let (calls, result) = give(&[answer.clone(), ours()]);
        assert_eq!(calls, ["create_refund", "list_refunds"]);
        assert_eq!(result, Ok(reported()));
        let (_, result) = give(&[answer.clone(), others()]);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{result:?}"
        );
        let (_, result) = give(&[answer, lost()]);
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
    }
    for status in [400, 409] {
        let other_body = error(status, "reply_refund_other_body");
        assert_eq!(give(&[other_body.clone(), ours()]).1, Ok(reported()));
        let (_, result) = give(&[other_body, others()]);
        assert!(
            matches!(result, Err(CallError::Unknown { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn what_became_of_a_refund() {
    let g = gateway();
    let known = RefundRequest {
        gateway_refund_id: Some("rfnd_FP8R8EGjGbPkVb".into()),
        ..refund()
    };
    let by_id = |answer: Answer| play(&[answer], |a| g.lookup_refund(&known, a));
    assert_eq!(
        by_id(reply(200, &our_refund(&same()))),
        (vec!["fetch_refund"], Ok(Some(reported())))
    );
    for answer in [
        lost(),
        Answer::NotSent("x".into()),
        reply(502, &json!({})),
        reply(200, &json!({"id": "rfnd_1"})),
    ] {
        let (_, result) = by_id(answer);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
    // A refund that was given an id does not vanish: that it is not found must not lead to another one.
    for (answer, code) in [
        (
            refusal(400, "The id provided does not exist"),
            "BAD_REQUEST_ERROR",
        ),
        (
            reply(200, &our_refund(&json!({"payment_id": "pay_other"}))),
            "refund_other_payment",
        ),
    ] {
        let (_, result) = by_id(answer);
        assert!(
            matches!(&result, Err(CallError::Rejected { code: c, .. }) if c == code),
            "{result:?}"
        );
    }

    let by_name = |answers: &[Answer]| play(answers, |a| g.lookup_refund(&refund(), a));
    let page = |items: Vec<Value>| reply(200, &json!({"items": items}));
    let other = our_refund(&json!({"id": "rfnd_other", "receipt": "Receipt No. 31"}));
    let noted = our_refund(&json!({"receipt": null, "notes": {"chatbill_refund": TOKEN}}));
    for ours in [our_refund(&same()), noted] {
        assert_eq!(
            by_name(&[page(vec![other.clone(), ours])]),
            (vec!["list_refunds"], Ok(Some(reported())))
        );
    }
    assert_eq!(by_name(&[page(vec![other.clone()])]).1, Ok(None));
    assert_eq!(by_name(&[no_refunds()]).1, Ok(None));
    let full = || page(vec![other.clone(); 100]);
    assert_eq!(
        by_name(&[full(), page(vec![our_refund(&same())])]).1,
        Ok(Some(reported()))
    );
    let mut skips = Vec::new();
    for given in 0..5 {
        skips.push(call(g.lookup_refund(&refund(), &vec![full(); given])).url);
    }
    assert!(
        skips[4].ends_with("/refunds?count=100&skip=400"),
        "{skips:?}"
    );
    // "There is none" is only said when all were seen and ours could be read.
    for answers in [
        vec![full(), full(), full(), full(), full()],
        vec![full(), lost()],
        vec![lost()],
        vec![reply(200, &json!({"entity": "collection"}))],
        vec![page(vec![our_refund(&json!({"amount": "100.00"}))])],
    ] {
        let (_, result) = by_name(&answers);
        assert!(
            matches!(result, Err(CallError::Unavailable { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_refund_too_small_or_too_late_is_refused_beforehand() {
    let g = gateway();
    let faults = |paise: i64, speed: Speed, days: i64| -> Vec<(String, &'static str)> {
        let request = RefundRequest {
            amount: Paise::new(paise).unwrap(),
            speed,
            now: refund().captured_at.plus_seconds(days * 86_400),
            ..refund()
        };
        g.check_refund(&request)
            .into_iter()
            .map(|f| (f.pointer, f.code))
            .collect()
    };
    assert_eq!(faults(100, Speed::Normal, 184), []);
    assert_eq!(
        faults(99, Speed::Normal, 185),
        [
            ("/amount".into(), "too_small"),
            ("/speed".into(), "too_old")
        ]
    );
    assert_eq!(faults(1, Speed::Instant, 400), []);
}

/// A refund's webhook with what finds its bill.
fn refund_hook(event: &str, notes: &Value, changes: &Value) -> Value {
    let mut hook = fixture("razorpay/hook_refund_processed.json");
    hook["event"] = json!(event);
    hook["payload"]["payment"]["entity"]["notes"] = notes.clone();
    for (name, value) in changes.as_object().unwrap() {
        hook["payload"]["refund"]["entity"][name] = value.clone();
    }
    hook
}

#[test]
fn refunds_are_hints_and_the_event_says_how_they_ended() {
    let note = json!({"chatbill_reference": REFERENCE});
    for (event, said, status) in [
        ("refund.created", "pending", RefundStatus::Pending),
        ("refund.created", "processed", RefundStatus::Processed),
        ("refund.speed_changed", "pending", RefundStatus::Pending),
        ("refund.processed", "pending", RefundStatus::Processed),
        ("refund.failed", "processed", RefundStatus::Failed),
    ] {
        let hook = refund_hook(event, &note, &json!({"status": said, "receipt": TOKEN}));
        let [
            Signal::Refund {
                reference,
                report,
                trust,
            },
        ] = &signals(&hook)[..]
        else {
            panic!("{event}")
        };
        assert_eq!(
            (reference.as_str(), report.status, trust),
            (REFERENCE, status, &Trust::Hint),
            "{event}"
        );
        assert_eq!(report.name.as_deref(), Some(TOKEN));
        assert_eq!(report.payment_id, "pay_FPoJKWQQ8lK13n");
    }
    // Our refund says itself whose it is, also when the payment has no room for our note.
    let own = json!({"notes": {"chatbill_reference": REFERENCE, "chatbill_refund": TOKEN}});
    for payment_notes in [json!([]), json!({"chatbill_reference": "OTHER-1"})] {
        let hook = refund_hook("refund.processed", &payment_notes, &own);
        let [
            Signal::Refund {
                reference, report, ..
            },
        ] = &signals(&hook)[..]
        else {
            panic!()
        };
        assert_eq!(reference.as_str(), REFERENCE);
        assert_eq!(report.name.as_deref(), Some(TOKEN));
    }
    let unknown = refund_hook("refund.arn_updated", &note, &same());
    assert!(matches!(&signals(&unknown)[..], [Signal::Ignored(_)]));
}

#[test]
fn what_goes_back_without_having_been_captured_is_no_refund() {
    let note = json!({"chatbill_reference": REFERENCE});
    let mut hook = refund_hook("refund.processed", &note, &same());
    hook["payload"]["payment"]["entity"]["captured"] = json!(false);
    // What the bank had agreed to goes back: the attempt is over.
    let read = signals(&hook);
    let [Signal::Payment { report, .. }] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(report.status, AttemptStatus::Failed);
    let mut failed = refund_hook("refund.failed", &note, &same());
    failed["payload"]["payment"]["entity"]["captured"] = json!(false);
    let [Signal::Ignored(why)] = &signals(&failed)[..] else {
        panic!()
    };
    assert_eq!(why, "refund.failed of a payment that was never captured");
}

#[test]
fn the_end_of_a_link_is_told_by_the_link_alone() {
    let mut hook = fixture("razorpay/hook_payment_captured_upi.json");
    hook["event"] = json!("payment_link.expired");
    hook["payload"]["payment"]["entity"]["notes"] = json!({"chatbill_reference": REFERENCE});
    assert!(matches!(&signals(&hook)[..], [Signal::Foreign(_)]));
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(body: Vec<u8>, header in ".{0,80}") {
        let g = gateway();
        let forged = RawWebhook {
            headers: vec![("x-razorpay-signature".into(), header)],
            query: vec![],
            body: body.clone(),
        };
        prop_assert!(g.verify(forged).is_err());
        let verified = g.verify(signed(body)).unwrap();
        let _ = g.read(&verified);
    }

    /// Genuine webhooks with one value anywhere replaced by another kind of value.
    #[test]
    fn a_webhook_with_one_odd_value_is_read_or_refused(which in 0..5_usize, place: prop::sample::Index, odd in 0..6_usize) {
        let name = ["payment_link_paid_upi", "order_paid_upi", "refund_processed", "payment_link_expired", "payment_failed_upi"][which];
        let mut hook = fixture(&format!("razorpay/hook_{name}.json"));
        let odd = [Value::Null, json!(-1), json!(1.5), json!("\u{0}\u{202e}"), json!([]), json!({"id": {}})][odd].clone();
        let mut places = Vec::new();
        walk(&hook, String::new(), &mut places);
        *hook.pointer_mut(place.get(&places[..]).as_str()).unwrap() = odd;
        let g = gateway();
        let verified = g.verify(signed(hook.to_string().into_bytes())).unwrap();
        let _ = g.read(&verified);
    }
}

fn walk(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                walk(value, format!("{at}/{name}"), places);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                walk(value, format!("{at}/{n}"), places);
            }
        }
        _ => {}
    }
    places.push(at);
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
