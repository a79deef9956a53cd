//! Properties of an order, for any history that vendors and shops can produce.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::unreachable,
    reason = "a test program: what is not as expected ends the test"
)]

use chatbill_domain::bill::{Bill, Charge, Customer, Goods, Item};
use chatbill_domain::contact::Msisdn;
use chatbill_domain::event::{Event, Recorded, RefundOutcome};
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::message::{
    Form, Fulfilment, MessageKey, Progress, Remedy, Report, SendFailure,
};
use chatbill_domain::money::Paise;
use chatbill_domain::order::{
    Contents, Hold, MessageStatus, Order, PaymentStatus, Terms, send_back_id,
};
use chatbill_domain::payment::{
    AttemptStatus, Closed, PaymentMode, PaymentReport, RefundReport, RefundStatus, Speed, Started,
};
use chatbill_domain::refund::{RefundState, Void};
use chatbill_domain::tenant::LatePayment;
use chatbill_domain::time::Millis;
use proptest::prelude::*;

const TOTAL: i64 = 85_000;
const START: i64 = 1_800_000_000_000;

fn paise(n: i64) -> Paise {
    Paise::new(n).unwrap()
}

fn contents(late_payment: LatePayment) -> Contents {
    let reference = ReferenceId::parse("A-1").unwrap();
    let bill = Bill {
        reference,
        customer: Customer {
            phone: Msisdn::parse("+919876543210").unwrap(),
            name: None,
        },
        goods: Goods::Physical,
        items: vec![Item {
            retailer_id: Some("s".into()),
            name: "Rice".into(),
            quantity: 1,
            amount: paise(TOTAL),
            sale_amount: None,
            origin: None,
            image: None,
        }],
        tax: Charge::default(),
        shipping: None,
        discount: None,
        subtotal: paise(TOTAL),
        total: paise(TOTAL),
        body: None,
        footer: None,
        header: None,
        beneficiaries: vec![],
        catalog_id: None,
        quick_pay: false,
        notes: Default::default(),
        receipt: None,
        extras: Default::default(),
        expires_in: 1800,
    };
    Contents {
        hash: bill.hash(),
        bill,
        terms: Terms {
            mode: PaymentMode::PaymentLink,
            gateway: "razorpay".into(),
            account: None,
            channel: "whatsapp".into(),
            provider: "meta".into(),
            on_captured: Fulfilment::Completed,
            late_payment,
            receipt_message: false,
            failed_message: false,
            receipt_url: "https://x.example/r/t".into(),
        },
        created_at: Millis::new(START),
        expires_at: Millis::new(START).plus_seconds(1860),
    }
}

fn order(late: LatePayment, events: Vec<Event>) -> Order {
    let key = OrderKey::new(
        TenantId::parse("acme").unwrap(),
        ReferenceId::parse("A-1").unwrap(),
    );
    let events = events
        .into_iter()
        .enumerate()
        .map(|(i, e)| Recorded::new(Millis::new(START + i64::try_from(i).unwrap()), "t", e))
        .collect();
    Order::new(key, contents(late), events, None, 0)
}

fn report(status: AttemptStatus, id: &str, amount: i64, currency: &str) -> Event {
    Event::Payment(PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status,
        payment_id: id.into(),
        amount: paise(amount),
        currency: currency.into(),
        method: None,
        error: None,
        // Every payment of these histories was made before anything closed.
        at: Some(Millis::new(START)),
    })
}

fn started() -> Event {
    Event::Started(Started {
        id: "plink_1".into(),
        link: "https://rzp.io/x".into(),
        expires_at: Millis::new(START).plus_seconds(1860),
        extra: None,
    })
}

/// What a gateway can truthfully tell about one order: failed attempts, one captured payment, its link closing.
fn history() -> impl Strategy<Value = (Vec<Event>, bool)> {
    (0usize..4, any::<bool>(), prop::option::of(any::<bool>())).prop_map(
        |(failed, paid, closed)| {
            let mut events = Vec::new();
            for i in 0..failed {
                events.push(report(
                    AttemptStatus::Pending,
                    &format!("pay_f{i}"),
                    TOTAL,
                    "INR",
                ));
                events.push(report(
                    AttemptStatus::Failed,
                    &format!("pay_f{i}"),
                    TOTAL,
                    "INR",
                ));
            }
            if paid {
                // A bank may turn this attempt from failed into captured.
                events.push(report(AttemptStatus::Failed, "pay_ok", TOTAL, "INR"));
                events.push(report(AttemptStatus::Authorized, "pay_ok", TOTAL, "INR"));
                events.push(report(AttemptStatus::Captured, "pay_ok", TOTAL, "INR"));
            } else if let Some(canceled) = closed {
                let reason = if canceled {
                    Closed::Canceled
                } else {
                    Closed::Expired
                };
                events.push(Event::Closed { reason });
            }
            (events, paid)
        },
    )
}

/// How the gateway took another sum than the bill's, and is content.
fn differently() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![
        Just((1_003, 0)),
        Just((0, 5_000)),
        Just((1_003, 5_000)),
        (1i64..5_000, 0i64..80_000)
    ]
}

/// What a gateway can truthfully tell of one payment with a fee or an offer: with and without its reasons, as the bill's sum alone, and
/// what its attempt was before. A plain word of the sum is a mismatch until the reasons are known.
fn explained() -> impl Strategy<Value = (Vec<Event>, Vec<Event>, (i64, i64))> {
    (differently(), any::<[bool; 4]>()).prop_flat_map(|((fee, offer), told)| {
        let amount = TOTAL + fee - offer;
        let plain = |status| report(status, "pay_ok", amount, "INR");
        let in_full = |parts: bool| {
            let Event::Payment(report) = plain(AttemptStatus::Captured) else {
                unreachable!()
            };
            let some = |amount: i64| (parts && amount > 0).then(|| paise(amount));
            Event::Payment(PaymentReport {
                fee: some(fee),
                offer: some(offer),
                ..report.paying(paise(TOTAL))
            })
        };
        let mut events = vec![in_full(true)];
        for (wanted, event) in told.into_iter().zip([
            plain(AttemptStatus::Authorized),
            plain(AttemptStatus::Captured),
            in_full(false),
            report(AttemptStatus::Captured, "pay_ok", TOTAL, "INR"),
        ]) {
            if wanted {
                events.push(event);
            }
        }
        let doubled: Vec<Event> = events.iter().chain(events.iter()).cloned().collect();
        (
            Just(events),
            Just(doubled).prop_shuffle(),
            Just((fee, offer)),
        )
    })
}

/// The history in some sequence, with repetitions.
fn shuffled() -> impl Strategy<Value = (Vec<Event>, Vec<Event>, bool)> {
    history().prop_flat_map(|(events, paid)| {
        let doubled: Vec<Event> = events.iter().chain(events.iter()).cloned().collect();
        (Just(events), Just(doubled).prop_shuffle(), Just(paid))
    })
}

fn essence(order: &Order) -> impl PartialEq + std::fmt::Debug + use<> {
    let attempts: Vec<(String, AttemptStatus, bool)> = order
        .attempts
        .iter()
        .map(|(id, a)| (id.clone(), a.report.status, a.counted))
        .collect();
    let messages: Vec<MessageKey> = order.messages.iter().map(|m| m.key.clone()).collect();
    (
        order.payment_status(),
        order.captured_amount(),
        order.fulfilment,
        attempts,
        messages,
        order.holds.len(),
    )
}

fn base(mut events: Vec<Event>) -> Vec<Event> {
    let mut all = vec![Event::Created, started()];
    all.append(&mut events);
    all
}

/// Anything at all, true or not.
fn anything() -> impl Strategy<Value = Event> {
    let status = prop_oneof![
        Just(AttemptStatus::Pending),
        Just(AttemptStatus::Failed),
        Just(AttemptStatus::Authorized),
        Just(AttemptStatus::Captured),
    ];
    let amount = prop_oneof![3 => Just(TOTAL), 1 => Just(TOTAL - 1), 1 => Just(0)];
    let currency = prop_oneof![5 => Just("INR"), 1 => Just("USD")];
    let payment = (status, 0u8..3, amount, currency)
        .prop_map(|(s, id, a, c)| report(s, &format!("pay_{id}"), a, c));
    let fulfilment = prop_oneof![
        Just(Fulfilment::Pending),
        Just(Fulfilment::Processing),
        Just(Fulfilment::PartiallyShipped),
        Just(Fulfilment::Shipped),
        Just(Fulfilment::Completed),
        Just(Fulfilment::Canceled),
    ]
    .prop_map(|to| Event::Fulfilment {
        to,
        description: None,
    });
    let key = prop_oneof![
        Just(MessageKey::Invoice(1)),
        Just(MessageKey::Invoice(2)),
        Just(MessageKey::Paid),
        Just(MessageKey::Status(1))
    ];
    let remedy = prop_oneof![
        Just(Remedy::Retry),
        Just(Remedy::GiveUp),
        Just(Remedy::UseTemplate),
        Just(Remedy::Unknown),
        Just(Remedy::Media),
        Just(Remedy::RetryOnce)
    ];
    let failure = remedy.prop_map(|remedy| SendFailure {
        remedy,
        code: "1".into(),
        detail: String::new(),
    });
    let message =
        (key, 1u32..4, failure, 0u8..7).prop_map(|(message, attempt, failure, kind)| match kind {
            0 => Event::Try {
                message,
                attempt,
                form: Form::Interactive,
                fallback: true,
                sms: false,
            },
            1 => Event::Sent {
                message,
                attempt,
                id: "wamid".into(),
                segments: None,
            },
            2 => Event::SendFailed {
                message,
                attempt,
                failure,
                again_at: Some(Millis::new(START + 9)),
            },
            3 => Event::Report {
                message,
                attempt,
                report: Report::Progress(Progress::Delivered),
            },
            4 => Event::Report {
                message,
                attempt,
                report: Report::Progress(Progress::Read),
            },
            5 => Event::Report {
                message,
                attempt,
                report: Report::Failed(failure),
            },
            _ => Event::Skipped {
                message,
                why: "x".into(),
            },
        });
    let closing = prop_oneof![
        Just(Event::Expired),
        Just(Event::Closed {
            reason: Closed::Expired
        }),
        Just(Event::Closed {
            reason: Closed::Canceled
        })
    ];
    prop_oneof![4 => payment, 2 => fulfilment, 3 => message, 1 => closing]
}

/// How far the money is; it never goes back.
fn money_rank(status: PaymentStatus) -> u8 {
    match status {
        PaymentStatus::Pending | PaymentStatus::Failed => 0,
        PaymentStatus::Canceled | PaymentStatus::Expired => 1,
        PaymentStatus::Captured => 2,
        PaymentStatus::PartiallyRefunded => 3,
        PaymentStatus::Refunded => 4,
    }
}

fn message_rank(status: MessageStatus) -> u8 {
    match status {
        MessageStatus::Delivered => 1,
        MessageStatus::Read => 2,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_and_repetition_of_a_true_history_ends_the_same((events, shuffled, paid) in shuffled()) {
        let expected = order(LatePayment::Hold, base(events));
        let got = order(LatePayment::Hold, base(shuffled));
        prop_assert_eq!(essence(&got), essence(&expected));
        prop_assert_eq!(got.payment_status() == PaymentStatus::Captured, paid);
    }

    /// Received = bill + fee − offer, whichever of the gateway's words came first.
    #[test]
    fn what_pays_in_full_adds_up_in_any_sequence((events, shuffled, (fee, offer)) in explained(), late in 0u8..3) {
        let late = [LatePayment::Accept, LatePayment::Hold, LatePayment::Refund][usize::from(late)];
        let expected = order(late, base(events));
        let got = order(late, base(shuffled));
        prop_assert_eq!(essence(&got), essence(&expected));
        prop_assert_eq!(got.paid(), expected.paid());
        prop_assert_eq!(got.payment_status(), PaymentStatus::Captured);
        prop_assert_eq!(got.captured_amount(), paise(TOTAL));
        let parts = got.paid();
        if fee != offer {
            prop_assert_eq!((parts.received, parts.fee, parts.offer), (paise(TOTAL + fee - offer), paise(fee), paise(offer)));
        }
        prop_assert_eq!(got.refundable_amount(), paise(TOTAL - parts.offer.get()));
        prop_assert!(got.holds.is_empty() && got.strays.is_empty());
        prop_assert_eq!(got.to_send_back().count(), 0);
    }

    #[test]
    fn no_state_goes_back(events in prop::collection::vec(anything(), 0..40), late in 0u8..3) {
        let late = [LatePayment::Accept, LatePayment::Hold, LatePayment::Refund][usize::from(late)];
        let mut current = order(late, vec![Event::Created, started()]);
        for (i, event) in events.into_iter().enumerate() {
            let at = Millis::new(START + 10 + i64::try_from(i).unwrap());
            let next = current.with(Recorded::new(at, "t", event));
            prop_assert!(money_rank(next.payment_status()) >= money_rank(current.payment_status()));
            prop_assert!(next.captured_amount() >= current.captured_amount());
            prop_assert!(next.captured_amount() <= next.bill().total);
            prop_assert!(next.refunded_amount() <= next.paid().received);
            prop_assert!(next.refundable_amount() <= next.paid().received);
            if matches!(current.fulfilment, Fulfilment::Completed | Fulfilment::Canceled) {
                prop_assert_eq!(next.fulfilment, current.fulfilment);
            }
            for before in &current.messages {
                let after = next.message(&before.key).unwrap();
                prop_assert!(message_rank(after.status) >= message_rank(before.status));
            }
            prop_assert!(next.holds.len() >= current.holds.len());
            current = next;
        }
    }

    #[test]
    fn nothing_but_a_matching_capture_pays_an_order(events in prop::collection::vec(anything(), 0..40)) {
        let order = order(LatePayment::Accept, base(events.clone()));
        let matching = events.iter().any(|e| matches!(e, Event::Payment(r)
            if r.status == AttemptStatus::Captured && r.amount == paise(TOTAL) && r.currency == "INR"));
        prop_assert_eq!(order.payment_status().is_paid(), matching);
        prop_assert_eq!(order.message(&MessageKey::Paid).is_some(), matching);
    }

    #[test]
    fn computing_step_by_step_and_at_once_is_the_same(events in prop::collection::vec(anything(), 0..30)) {
        let at_once = order(LatePayment::Hold, base(events.clone()));
        let mut stepwise = order(LatePayment::Hold, vec![Event::Created, started()]);
        for (i, event) in events.into_iter().enumerate() {
            stepwise = stepwise.with(Recorded::new(Millis::new(START + 2 + i64::try_from(i).unwrap()), "t", event));
        }
        prop_assert_eq!(essence(&stepwise), essence(&at_once));
        prop_assert_eq!(&stepwise.events, &at_once.events);
    }

    #[test]
    fn an_order_with_open_work_is_always_due(events in prop::collection::vec(anything(), 0..40), after in 0i64..100_000) {
        let order = order(LatePayment::Hold, base(events));
        let now = Millis::new(START).plus_seconds(after);
        let open = order.payment_status().is_open()
            || order.messages.iter().any(|m| !m.status.is_settled());
        if open {
            prop_assert!(order.next_check(now).is_some());
        }
    }

    #[test]
    fn events_survive_storage(events in prop::collection::vec(anything(), 1..20)) {
        for event in events {
            let recorded = Recorded::new(Millis::new(START), "meta", event);
            let text = serde_json::to_string(&recorded).unwrap();
            prop_assert_eq!(serde_json::from_str::<Recorded>(&text).unwrap(), recorded);
        }
    }
}

/// What a provider can say about one message it took, in the order it came to pass.
fn message_history() -> impl Strategy<Value = Vec<Event>> {
    let key = || MessageKey::Invoice(1);
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(move |(delivered, read, failed)| {
        let report = |report| Event::Report {
            message: key(),
            attempt: 1,
            report,
        };
        let mut events = vec![report(Report::Progress(Progress::Sent))];
        if failed {
            let failure = SendFailure {
                remedy: Remedy::GiveUp,
                code: "131026".into(),
                detail: String::new(),
            };
            events.push(report(Report::Failed(failure)));
        }
        if delivered {
            events.push(report(Report::Progress(Progress::Delivered)));
        }
        if read {
            events.push(report(Report::Progress(Progress::Read)));
        }
        events
    })
}

proptest! {
    #[test]
    fn reports_about_a_message_end_the_same_in_any_sequence(
        (events, shuffled) in message_history().prop_flat_map(|events| {
            let doubled: Vec<Event> = events.iter().chain(events.iter()).cloned().collect();
            (Just(events), Just(doubled).prop_shuffle())
        })
    ) {
        let tried = |mut events: Vec<Event>| {
            let message = MessageKey::Invoice(1);
            let mut all = vec![Event::Try { message: message.clone(), attempt: 1, form: Form::Template, fallback: false, sms: false }];
            all.push(Event::Sent { message, attempt: 1, id: "wamid".into(), segments: None });
            all.append(&mut events);
            order(LatePayment::Hold, base(all)).message(&MessageKey::Invoice(1)).unwrap().status
        };
        prop_assert_eq!(tried(shuffled), tried(events));
    }
}

#[test]
fn news_that_a_message_left_the_provider_replaces_nothing() {
    let message = MessageKey::Invoice(1);
    let fail = |remedy| Event::Report {
        message: message.clone(),
        attempt: 1,
        report: Report::Failed(SendFailure {
            remedy,
            code: "131047".into(),
            detail: String::new(),
        }),
    };
    let left = Event::Report {
        message: message.clone(),
        attempt: 1,
        report: Report::Progress(Progress::Sent),
    };
    for (remedy, status) in [
        (Remedy::UseTemplate, MessageStatus::Queued),
        (Remedy::Retry, MessageStatus::Retrying),
        (Remedy::GiveUp, MessageStatus::Failed),
    ] {
        let events = vec![
            Event::Try {
                message: message.clone(),
                attempt: 1,
                form: Form::Interactive,
                fallback: true,
                sms: false,
            },
            Event::Sent {
                message: message.clone(),
                attempt: 1,
                id: "wamid".into(),
                segments: None,
            },
            fail(remedy),
            left.clone(),
        ];
        let order = order(LatePayment::Hold, base(events));
        assert_eq!(order.message(&message).unwrap().status, status);
        assert_eq!(
            order.message(&message).unwrap().template_next,
            status == MessageStatus::Queued
        );
    }
}

#[test]
fn after_a_cancellation_no_money_counts_whenever_its_attempt_began() {
    let canceled = |policy| {
        order(
            policy,
            base(vec![
                report(AttemptStatus::Pending, "p", TOTAL, "INR"),
                Event::Fulfilment {
                    to: Fulfilment::Canceled,
                    description: None,
                },
                report(AttemptStatus::Captured, "p", TOTAL, "INR"),
            ]),
        )
    };
    let held = canceled(LatePayment::Hold);
    assert_eq!(held.payment_status(), PaymentStatus::Canceled);
    assert_eq!(held.holds[0].0, Hold::LatePayment);
    assert_eq!(
        canceled(LatePayment::Accept).payment_status(),
        PaymentStatus::Captured
    );
}

#[test]
fn a_failed_attempt_the_bank_revives_after_the_end_is_late() {
    let order = order(
        LatePayment::Hold,
        base(vec![
            report(AttemptStatus::Failed, "p", TOTAL, "INR"),
            Event::Expired,
            report(AttemptStatus::Captured, "p", TOTAL, "INR"),
        ]),
    );
    assert_eq!(order.payment_status(), PaymentStatus::Expired);
    assert_eq!(order.holds[0].0, Hold::LatePayment);
}

#[test]
fn money_that_is_not_ours_holds_the_order_and_pays_nothing() {
    for (amount, currency, hold) in [
        (TOTAL - 1, "INR", Hold::AmountMismatch),
        (TOTAL + 1, "INR", Hold::AmountMismatch),
        (TOTAL, "USD", Hold::CurrencyMismatch),
    ] {
        let order = order(
            LatePayment::Hold,
            base(vec![report(AttemptStatus::Captured, "p", amount, currency)]),
        );
        assert_eq!(order.payment_status(), PaymentStatus::Pending);
        assert_eq!(
            order.holds.iter().map(|(h, _, _)| *h).collect::<Vec<_>>(),
            [hold]
        );
        assert!(
            order.message(&MessageKey::Paid).is_none(),
            "the customer is not told it is paid"
        );
    }
}

#[test]
fn late_money_follows_the_terms() {
    let late = || {
        let Event::Payment(mut r) = report(AttemptStatus::Captured, "p", TOTAL, "INR") else {
            unreachable!()
        };
        r.at = Some(Millis::new(START).plus_seconds(7200));
        vec![Event::Created, started(), Event::Expired, Event::Payment(r)]
    };
    assert_eq!(
        order(LatePayment::Accept, late()).payment_status(),
        PaymentStatus::Captured
    );
    let held = order(LatePayment::Hold, late());
    assert_eq!(held.payment_status(), PaymentStatus::Expired);
    assert_eq!(held.holds[0].0, Hold::LatePayment);
    assert_eq!(
        held.attempts["p"].report.status,
        AttemptStatus::Captured,
        "never dropped"
    );
    let back = order(LatePayment::Refund, late());
    assert_eq!(back.payment_status(), PaymentStatus::Expired);
    assert!(back.holds.is_empty());
    assert_eq!(
        back.to_send_back()
            .map(|(id, _)| id.as_str())
            .collect::<Vec<_>>(),
        ["p"]
    );
    assert!(back.next_check(Millis::new(START)).is_some());
}

#[test]
fn over_and_under_payment_wait_for_a_person() {
    let paid = |policy, amount| {
        order(
            policy,
            base(vec![report(AttemptStatus::Captured, "p", amount, "INR")]),
        )
    };
    let over = paid(LatePayment::Accept, TOTAL + 1);
    assert_eq!(over.payment_status(), PaymentStatus::Captured);
    assert_eq!(
        over.captured_amount(),
        paise(TOTAL + 1),
        "what came can go back"
    );
    let under = paid(LatePayment::Accept, TOTAL - 1);
    assert_eq!(
        under.payment_status(),
        PaymentStatus::Pending,
        "too little never pays"
    );
    assert_eq!(under.holds[0].0, Hold::AmountMismatch);
    for amount in [TOTAL - 1, TOTAL + 1] {
        let held = paid(LatePayment::Hold, amount);
        assert_eq!(held.payment_status(), PaymentStatus::Pending);
        assert_eq!(held.holds.len(), 1);
        // Nothing of it goes back by itself: the gateway's word that it is all there may still come.
        let back = paid(LatePayment::Refund, amount);
        assert_eq!(back.payment_status(), PaymentStatus::Pending);
        assert_eq!(back.holds[0].0, Hold::AmountMismatch);
        assert_eq!(back.to_send_back().count(), 0);
        // A person may decide otherwise.
        let settled = held.with(Recorded::new(
            Millis::new(START).plus_seconds(60),
            "pos:desk",
            Event::Settled {
                payment_id: "p".into(),
                accept: true,
            },
        ));
        assert_eq!(settled.payment_status(), PaymentStatus::Captured);
        assert_eq!(settled.captured_amount(), paise(amount));
        assert!(settled.holds.is_empty());
    }
}

#[test]
fn money_paid_in_time_counts_although_the_news_is_late() {
    let order = order(
        LatePayment::Hold,
        vec![
            Event::Created,
            started(),
            Event::Expired,
            report(AttemptStatus::Captured, "p", TOTAL, "INR"),
        ],
    );
    assert_eq!(order.payment_status(), PaymentStatus::Captured);
}

#[test]
fn money_that_comes_twice_is_counted_once_and_follows_the_terms() {
    let twice = |policy| {
        order(
            policy,
            base(vec![
                report(AttemptStatus::Captured, "p1", TOTAL, "INR"),
                report(AttemptStatus::Captured, "p2", TOTAL, "INR"),
            ]),
        )
    };
    for policy in [LatePayment::Accept, LatePayment::Hold, LatePayment::Refund] {
        let order = twice(policy);
        assert_eq!(order.captured_amount(), paise(TOTAL));
        assert_eq!(order.payment().unwrap().0, "p1");
        assert_eq!(order.strays["p2"].hold, Hold::DoublePayment);
    }
    assert!(twice(LatePayment::Accept).holds.is_empty());
    assert_eq!(twice(LatePayment::Accept).to_send_back().count(), 0);
    assert_eq!(twice(LatePayment::Hold).holds[0].0, Hold::DoublePayment);
    assert_eq!(twice(LatePayment::Refund).to_send_back().count(), 1);
}

fn in_full(id: &str, amount: i64, fee: Option<i64>) -> Event {
    let Event::Payment(report) = report(AttemptStatus::Captured, id, amount, "INR") else {
        unreachable!()
    };
    Event::Payment(PaymentReport {
        fee: fee.map(paise),
        ..report.paying(paise(TOTAL))
    })
}

#[test]
fn only_the_bills_own_sum_can_be_paid_in_full() {
    // A link over another sum than the bill's, paid in full with a fee.
    let Event::Payment(other) = in_full("p", TOTAL, None) else {
        unreachable!()
    };
    let other = Event::Payment(PaymentReport {
        paid_in_full: Some(paise(TOTAL - 500)),
        fee: Some(paise(500)),
        ..other
    });
    let held = order(LatePayment::Hold, base(vec![other]));
    assert_eq!(held.payment_status(), PaymentStatus::Pending);
    assert_eq!(held.holds[0].0, Hold::AmountMismatch);
}

#[test]
fn late_or_second_money_goes_back_without_the_fee() {
    let fee = 1_003;
    let word = || in_full("p2", TOTAL + fee, Some(fee));
    let plain = || report(AttemptStatus::Captured, "p2", TOTAL + fee, "INR");
    let first = || report(AttemptStatus::Captured, "p1", TOTAL, "INR");
    for events in [
        vec![first(), word()],
        vec![first(), plain(), word()],
        vec![first(), word(), plain()],
    ] {
        let held = order(LatePayment::Hold, base(events.clone()));
        assert_eq!(held.strays["p2"].hold, Hold::DoublePayment);
        assert_eq!(held.holds.len(), 1);
        let back = order(LatePayment::Refund, base(events));
        assert!(back.holds.is_empty());
        assert_eq!(back.to_send_back().count(), 1);
        assert_eq!(back.taken("p2"), Some(paise(TOTAL + fee)));
        assert_eq!(back.refundable("p2"), Some(paise(TOTAL)));
    }
}

#[test]
fn what_goes_back_or_was_settled_pays_nothing_any_more() {
    let plain = || report(AttemptStatus::Captured, "p", TOTAL + 1_003, "INR");
    let back = Event::RefundAsked {
        id: "r".into(),
        amount: None,
        payment_id: Some("p".into()),
        speed: Speed::Normal,
        reason: None,
    };
    let settled = Event::Settled {
        payment_id: "p".into(),
        accept: false,
    };
    for decision in [back, settled] {
        let word = in_full("p", TOTAL + 1_003, Some(1_003));
        let order = order(LatePayment::Hold, base(vec![plain(), decision, word]));
        assert_eq!(order.payment_status(), PaymentStatus::Pending);
        assert!(order.message(&MessageKey::Paid).is_none());
    }
}

#[test]
fn what_a_person_accepted_is_put_right_by_the_gateways_word() {
    let fee = 1_003;
    let accept = Event::Settled {
        payment_id: "p".into(),
        accept: true,
    };
    let plain = report(AttemptStatus::Captured, "p", TOTAL + fee, "INR");
    let accepted = order(LatePayment::Hold, base(vec![plain, accept]));
    assert_eq!(accepted.captured_amount(), paise(TOTAL + fee));
    let word = in_full("p", TOTAL + fee, Some(fee));
    let order = accepted.with(Recorded::new(Millis::new(START).plus_seconds(9), "t", word));
    assert_eq!(order.captured_amount(), paise(TOTAL));
    assert_eq!(order.paid().fee, paise(fee));
    assert_eq!(order.refundable_amount(), paise(TOTAL));
    assert!(order.holds.is_empty());
}

#[test]
fn refunds_go_up_to_what_the_customer_may_get_back() {
    for (amount, left) in [(TOTAL + 1_003, TOTAL), (TOTAL - 5_000, TOTAL - 5_000)] {
        let refunded = |asked: Option<i64>| {
            order(
                LatePayment::Hold,
                base(vec![in_full("p", amount, None), ask("r", asked)]),
            )
        };
        let void = refunded(Some(left + 1));
        assert_eq!(
            void.refunds.voided("r").unwrap().1,
            Void::Exceeds(paise(left))
        );
        let all = refunded(None);
        assert_eq!(all.refunding_amount(), paise(left));
        let done = refund(
            Some("r"),
            Some("rfnd_1"),
            None,
            RefundStatus::Processed,
            left,
        );
        let at = Millis::new(START).plus_seconds(9);
        let all = all.with(Recorded::new(at, "t", done));
        assert_eq!(all.payment_status(), PaymentStatus::Refunded);
        assert!(all.holds.is_empty());
    }
}

#[test]
fn an_authorised_attempt_that_failed_or_was_voided_is_over() {
    let at = |status| report(status, "p", TOTAL, "INR");
    let (authorized, failed) = (at(AttemptStatus::Authorized), at(AttemptStatus::Failed));
    for events in [
        vec![authorized.clone(), failed.clone()],
        vec![failed.clone(), authorized.clone()],
    ] {
        let over = order(LatePayment::Hold, base(events));
        assert_eq!(over.payment_status(), PaymentStatus::Failed);
        assert!(!over.awaits_capture(Millis::new(START)));
        let captured = Recorded::new(Millis::new(START + 9), "t", at(AttemptStatus::Captured));
        assert_eq!(
            over.with(captured).payment_status(),
            PaymentStatus::Captured,
            "the bank changed its mind"
        );
    }
    // One that nobody captures hides the way to pay for 15 minutes, whatever sum it is over.
    for amount in [TOTAL, TOTAL + 1_003] {
        let waiting = order(
            LatePayment::Hold,
            base(vec![report(AttemptStatus::Authorized, "p", amount, "INR")]),
        );
        let start = Millis::new(START);
        assert!(waiting.awaits_capture(start.plus_seconds(899)));
        assert!(!waiting.awaits_capture(start.plus_seconds(901)));
        assert!(waiting.holds.is_empty());
    }
}

fn ask(id: &str, amount: Option<i64>) -> Event {
    Event::RefundAsked {
        id: id.into(),
        amount: amount.map(paise),
        payment_id: None,
        speed: Speed::Normal,
        reason: None,
    }
}

fn refund(
    own: Option<&str>,
    gateway_id: Option<&str>,
    name: Option<&str>,
    status: RefundStatus,
    amount: i64,
) -> Event {
    Event::Refund {
        id: own.map(str::to_owned),
        report: RefundReport {
            status,
            id: gateway_id.map(str::to_owned),
            name: name.map(str::to_owned),
            payment_id: "p".into(),
            amount: paise(amount),
            speed: None,
            bank_reference: None,
            error: None,
            at: None,
        },
    }
}

fn paid(more: Vec<Event>) -> Order {
    let mut events = base(vec![report(AttemptStatus::Captured, "p", TOTAL, "INR")]);
    events.extend(more);
    order(LatePayment::Hold, events)
}

#[test]
fn two_refunds_of_sixty_percent_at_once_are_one() {
    let order = paid(vec![ask("a", Some(51_000)), ask("b", Some(51_000))]);
    assert_eq!(order.refunds.list().len(), 1);
    let (_, void) = order.refunds.voided("b").unwrap();
    assert_eq!(void, Void::Exceeds(paise(34_000)));
    assert_eq!(order.refunding_amount(), paise(51_000));
    // What failed is free again, but a void ask stays void: the till was told so.
    let failed = paid(vec![
        ask("a", Some(51_000)),
        ask("b", Some(51_000)),
        refund(
            Some("a"),
            Some("rfnd_1"),
            None,
            RefundStatus::Failed,
            51_000,
        ),
        ask("c", None),
    ]);
    assert!(failed.refunds.find("b").is_none());
    assert_eq!(failed.refunds.find("c").unwrap().amount, paise(TOTAL));
}

#[test]
fn nothing_is_refunded_of_what_was_not_paid() {
    let order = order(LatePayment::Hold, base(vec![ask("a", None)]));
    assert_eq!(order.refunds.voided("a").unwrap().1, Void::NotPaid);
}

#[test]
fn refunds_move_the_order_and_are_told_once() {
    let part = paid(vec![
        ask("a", Some(10_000)),
        refund(
            Some("a"),
            Some("rfnd_1"),
            None,
            RefundStatus::Pending,
            10_000,
        ),
    ]);
    assert_eq!(part.payment_status(), PaymentStatus::Captured);
    assert_eq!(part.refunding_amount(), paise(10_000));
    let done = || refund(None, Some("rfnd_1"), None, RefundStatus::Processed, 10_000);
    let part = paid(vec![
        ask("a", Some(10_000)),
        refund(
            Some("a"),
            Some("rfnd_1"),
            None,
            RefundStatus::Pending,
            10_000,
        ),
        done(),
        refund(None, Some("rfnd_1"), None, RefundStatus::Pending, 10_000),
        done(),
    ]);
    assert_eq!(part.payment_status(), PaymentStatus::PartiallyRefunded);
    assert_eq!(part.refunded_amount(), paise(10_000));
    let told = part
        .messages
        .iter()
        .filter(|m| matches!(m.key, MessageKey::Refund(_)));
    assert_eq!(told.count(), 1);
    let all = paid(vec![
        ask("a", None),
        refund(Some("a"), Some("r"), None, RefundStatus::Processed, TOTAL),
    ]);
    assert_eq!(all.payment_status(), PaymentStatus::Refunded);
}

#[test]
fn a_webhook_faster_than_our_own_call_is_the_same_refund() {
    for (gateway_id, name) in [
        (Some("rfnd_1"), None),
        (Some("rfnd_1"), Some("a")),
        (None, Some("a")),
    ] {
        let order = paid(vec![
            ask("a", Some(10_000)),
            refund(None, gateway_id, name, RefundStatus::Processed, 10_000),
            refund(Some("a"), gateway_id, name, RefundStatus::Pending, 10_000),
        ]);
        assert_eq!(order.refunds.list().len(), 1, "{gateway_id:?} {name:?}");
        assert_eq!(order.refunded_amount(), paise(10_000));
        assert!(order.holds.is_empty());
    }
    // Two of ours could be meant, so the webhook alone is taken for a dashboard's; our calls' answers put it right.
    let order = paid(vec![
        ask("a", Some(10_000)),
        ask("b", Some(10_000)),
        refund(None, Some("rfnd_2"), None, RefundStatus::Processed, 10_000),
        refund(
            Some("a"),
            Some("rfnd_1"),
            None,
            RefundStatus::Pending,
            10_000,
        ),
        refund(
            Some("b"),
            Some("rfnd_2"),
            None,
            RefundStatus::Pending,
            10_000,
        ),
    ]);
    assert_eq!(order.refunds.list().len(), 2);
    assert_eq!(
        order.refunds.find("b").unwrap().state,
        RefundState::Processed
    );
    assert_eq!(order.refunds.find("a").unwrap().state, RefundState::Pending);
    let told = order
        .messages
        .iter()
        .filter(|m| matches!(m.key, MessageKey::Refund(_)));
    assert_eq!(told.count(), 1);
}

#[test]
fn a_dashboard_s_refund_appears_and_leaves_less_to_refund() {
    let order = paid(vec![
        refund(None, Some("rfnd_9"), None, RefundStatus::Processed, 80_000),
        ask("a", Some(10_000)),
    ]);
    assert_eq!(order.payment_status(), PaymentStatus::PartiallyRefunded);
    assert_eq!(
        order.refunds.voided("a").unwrap().1,
        Void::Exceeds(paise(5_000))
    );
    // A dashboard does not know what we have promised: then a person must look.
    let order = paid(vec![
        ask("a", Some(10_000)),
        refund(
            Some("a"),
            Some("rfnd_1"),
            None,
            RefundStatus::Pending,
            10_000,
        ),
        refund(None, Some("rfnd_9"), None, RefundStatus::Processed, 80_000),
    ]);
    assert_eq!(order.holds[0].0, Hold::RefundMismatch);
}

#[test]
fn held_money_that_went_back_is_settled() {
    let mut events = base(vec![
        report(AttemptStatus::Captured, "p1", TOTAL, "INR"),
        report(AttemptStatus::Captured, "p", TOTAL, "INR"),
    ]);
    assert_eq!(order(LatePayment::Hold, events.clone()).holds.len(), 1);
    events.push(Event::RefundAsked {
        id: "back".into(),
        amount: None,
        payment_id: Some("p".into()),
        speed: Speed::Normal,
        reason: None,
    });
    events.push(refund(
        Some("back"),
        Some("rfnd_1"),
        None,
        RefundStatus::Processed,
        TOTAL,
    ));
    let order = order(LatePayment::Hold, events);
    assert!(order.holds.is_empty());
    assert_eq!(
        order.payment_status(),
        PaymentStatus::Captured,
        "the first payment still pays"
    );
    assert_eq!(order.refunded_amount(), Paise::ZERO);
}

proptest! {
    /// Whatever is asked and reported in whatever sequence: what is promised of a payment never exceeds what it took, unless the gateway
    /// itself says so, and then a person is called. Reports repeated at the end change nothing.
    #[test]
    fn promised_money_never_exceeds_what_was_taken(
        steps in proptest::collection::vec((0u8..6, 0usize..4, 1i64..TOTAL + 2), 1..30)
    ) {
        let ids = ["a", "b", "c", "d"];
        let gateway = ["g1", "g2", "g3", "g4"];
        let mut events = Vec::new();
        let mut amounts = std::collections::BTreeMap::new();
        let mut asked = std::collections::BTreeSet::new();
        for (kind, which, amount) in steps {
            let known = *amounts.entry(which).or_insert(amount);
            // Our own call is made after its ask is stored, never before.
            let kind = if matches!(kind, 2 | 4 | 5) && !asked.contains(&which) { 0 } else { kind };
            if kind <= 1 {
                asked.insert(which);
            }
            events.push(match kind {
                0 | 1 => ask(ids[which], Some(known)),
                2 => refund(Some(ids[which]), Some(gateway[which]), None, RefundStatus::Pending, known),
                3 => refund(None, Some(gateway[which]), Some(ids[which]), RefundStatus::Processed, known),
                4 => Event::RefundEnded { id: ids[which].into(), outcome: RefundOutcome::Refused, error: "no".into(), obstacle: None },
                _ => Event::RefundEnded { id: ids[which].into(), outcome: RefundOutcome::Unknown, error: "lost".into(), obstacle: None },
            });
        }
        let first = paid(events.clone());
        let promised = first.refunded_amount().get() + first.refunding_amount().get();
        let called = first.holds.iter().any(|(h, _, _)| *h == Hold::RefundMismatch);
        prop_assert!(promised <= TOTAL || called);
        let reports = events.iter().filter(|e| matches!(e, Event::Refund { .. })).cloned();
        let again = paid(events.iter().cloned().chain(reports).collect());
        prop_assert_eq!(again.refunded_amount(), first.refunded_amount());
        prop_assert_eq!(again.refunds.list().len(), first.refunds.list().len());
    }
}

fn at(mut event: Event, seconds: i64) -> Event {
    if let Event::Payment(report) = &mut event {
        report.at = Some(Millis::new(START).plus_seconds(seconds));
    }
    event
}

#[test]
fn more_news_of_money_that_was_decided_about_decides_nothing_anew() {
    use AttemptStatus::{Authorized, Captured, Failed, Pending};
    let x = |status| at(report(status, "p", TOTAL, "INR"), 0);
    for history in [
        vec![x(Failed), Event::Expired, x(Captured), x(Pending)],
        vec![x(Failed), Event::Expired, x(Captured), x(Authorized)],
        vec![x(Failed), Event::Expired, x(Authorized), x(Captured)],
    ] {
        for policy in [LatePayment::Hold, LatePayment::Refund] {
            let order = order(policy, base(history.clone()));
            assert_eq!(
                order.payment_status(),
                PaymentStatus::Expired,
                "{history:?}"
            );
            assert!(order.message(&MessageKey::Paid).is_none());
        }
    }
}

#[test]
fn the_money_that_pays_the_order_is_never_sent_back_by_the_terms() {
    let right = || report(AttemptStatus::Captured, "p", TOTAL, "INR");
    let wrong = || report(AttemptStatus::Captured, "p", TOTAL - 1, "INR");
    for history in [vec![right(), wrong()], vec![wrong(), right()]] {
        let order = order(LatePayment::Refund, base(history));
        let paid = order.payment().is_some();
        assert!(!paid || order.to_send_back().next().is_none());
        assert!(paid || order.to_send_back().count() == 1);
    }
    let doubted = order(LatePayment::Refund, base(vec![right(), wrong()]));
    assert_eq!(doubted.payment_status(), PaymentStatus::Captured);
    assert_eq!(doubted.holds[0].0, Hold::AmountMismatch);
}

#[test]
fn money_on_its_way_back_cannot_be_accepted() {
    let events = base(vec![
        report(AttemptStatus::Captured, "p", TOTAL - 1, "INR"),
        Event::RefundAsked {
            id: "r".into(),
            amount: None,
            payment_id: Some("p".into()),
            speed: Speed::Normal,
            reason: None,
        },
        Event::Settled {
            payment_id: "p".into(),
            accept: true,
        },
    ]);
    let order = order(LatePayment::Hold, events);
    assert_eq!(order.payment_status(), PaymentStatus::Pending);
}

#[test]
fn what_cannot_be_sent_back_is_held() {
    let events = base(vec![
        report(AttemptStatus::Captured, "p", TOTAL - 1, "INR"),
        Event::RefundAsked {
            id: "back-p".into(),
            amount: None,
            payment_id: Some("p".into()),
            speed: Speed::Normal,
            reason: None,
        },
        Event::RefundEnded {
            id: "back-p".into(),
            outcome: RefundOutcome::Refused,
            error: "no".into(),
            obstacle: None,
        },
    ]);
    let order = order(LatePayment::Refund, events);
    assert_eq!(order.holds[0].0, Hold::AmountMismatch);
    assert_eq!(order.to_send_back().count(), 0);
}

#[test]
fn a_refund_that_waits_is_looked_at_less_and_less_often() {
    let waiting = |tries: u32| {
        let mut events = vec![ask("a", None)];
        for attempt in 2..=tries {
            events.push(Event::RefundTried {
                id: "a".into(),
                attempt,
            });
        }
        events.push(Event::RefundEnded {
            id: "a".into(),
            outcome: RefundOutcome::Later,
            error: "busy".into(),
            obstacle: None,
        });
        let order = paid(events);
        let refund = order.refunds.find("a").unwrap().clone();
        let due = (1..40_000_i64).find(|s| {
            let now = refund.tried_at.plus_seconds(*s);
            order.refunds_due(now).next().is_some()
        });
        due.unwrap()
    };
    let waits: Vec<i64> = [1, 2, 5, 12].into_iter().map(waiting).collect();
    assert_eq!(waits, [60, 120, 960, 21_600]);
}

/// A dashboard's refund of the same amount, told without a name while ours is being asked for, was taken for ours. The answer to our own
/// call puts it right, also in the books.
#[test]
fn a_dashboard_refund_taken_for_ours_is_put_right() {
    let dashboard = |id| refund(None, Some(id), None, RefundStatus::Processed, 10_000);
    let ours = refund(
        Some("a"),
        Some("rfnd_1"),
        None,
        RefundStatus::Pending,
        10_000,
    );
    let order = paid(vec![
        ask("a", Some(10_000)),
        dashboard("rfnd_x"),
        ours.clone(),
        dashboard("rfnd_x"),
    ]);
    let a = order.refunds.find("a").unwrap();
    assert_eq!(
        (a.gateway_id.as_deref(), a.state),
        (Some("rfnd_1"), RefundState::Pending)
    );
    assert_eq!(order.refunds.list().len(), 2);
    assert_eq!(order.refunds.reserved(None), paise(20_000));
    assert_eq!(order.refunded_amount(), paise(10_000));
    // The right one is not torn apart.
    let order = paid(vec![ask("a", Some(10_000)), dashboard("rfnd_1"), ours]);
    assert_eq!(order.refunds.list().len(), 1);
    assert_eq!(order.refunds.reserved(None), paise(10_000));
}

/// What the terms send back and the gateway, or a person, gives up on needs somebody to look.
#[test]
fn money_that_could_not_be_sent_back_is_held() {
    let id = send_back_id("p2");
    let after = |end: Event| {
        let asked = Event::RefundAsked {
            id: id.clone(),
            amount: None,
            payment_id: Some("p2".into()),
            speed: Speed::Normal,
            reason: None,
        };
        let paid = |id| report(AttemptStatus::Captured, id, TOTAL, "INR");
        let order = order(
            LatePayment::Refund,
            base(vec![paid("p"), paid("p2"), asked, end]),
        );
        let held = order.holds.iter().map(|(_, _, id)| id.clone());
        held.collect::<Vec<String>>()
    };
    let ended = |outcome| Event::RefundEnded {
        id: id.clone(),
        outcome,
        error: "no".into(),
        obstacle: None,
    };
    let Event::Refund { id: _, mut report } =
        refund(None, Some("rfnd_1"), None, RefundStatus::Failed, TOTAL)
    else {
        unreachable!()
    };
    report.payment_id = "p2".into();
    let failed = Event::Refund {
        id: Some(id.clone()),
        report,
    };
    for end in [
        failed,
        ended(RefundOutcome::Refused),
        ended(RefundOutcome::Dismissed),
    ] {
        assert_eq!(after(end.clone()), ["p2"], "{end:?}");
    }
    // Short of balance, or in doubt, it goes on by itself.
    for outcome in [RefundOutcome::Later, RefundOutcome::Unknown] {
        assert!(after(ended(outcome)).is_empty());
    }
}
