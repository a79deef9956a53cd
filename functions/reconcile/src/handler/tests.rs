use chatbill_domain::event::{Event, RefundOutcome};
use chatbill_domain::http::Answer;
use chatbill_domain::message::MessageKey;
use chatbill_domain::money::Paise;
use chatbill_domain::order::{Order, PaymentStatus};
use chatbill_domain::payment::{AttemptStatus, Speed};
use chatbill_domain::tenant::LatePayment;
use chatbill_testkit::builders::{bill, captured, draft, key, report};
use chatbill_testkit::events;
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{
    FixedClock, MemoryOrders, MemoryQueue, MemoryTenants, ScriptedHttp, SeededRandom, reply,
};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{World, bill_sent, razorpay_link, razorpay_links, started};

use super::*;

const FUNCTION: &str = "reconcile";
const FETCH: &str = "razorpay.fetch_link";
const REFUNDS: &str = "razorpay.list_refunds";

type InMemory =
    Ports<MemoryOrders, MemoryQueue, MemoryTenants, ScriptedHttp, FixedClock, SeededRandom>;

fn ports(world: &World) -> InMemory {
    Ports {
        store: world.store.clone(),
        queue: world.queue.clone(),
        tenants: world.tenants.clone(),
        http: world.http.clone(),
        clock: world.clock.clone(),
        random: SeededRandom::new(7),
    }
}

/// One run that has five minutes.
async fn run(world: &World) -> Value {
    let deadline = world.clock.now().plus_seconds(300).get();
    handle(&ports(world), u64::try_from(deadline).unwrap())
        .await
        .unwrap()
}

fn order(world: &World) -> Order {
    world.store.order(&key("acme", "BM345A-12")).unwrap()
}

/// The bill went out ten minutes ago.
async fn unpaid() -> World {
    let world = World::new();
    world.order(bill_sent()).await;
    world.clock.advance(600);
    world
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = ["schedule"];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        // What the schedule sends is not looked at; it must only be JSON.
        let _: Value = serde_json::from_str(&events::text(FUNCTION, event)).unwrap();
        let (logs, _guard) = Logs::capture();
        let world = unpaid().await;
        world
            .http
            .reply(FETCH, 200, &razorpay_link("BM345A-12", "paid"));
        world.http.reply(REFUNDS, 200, &json!({"items": []}));
        let summary = run(&world).await;
        logs.assert_discreet();
        let recorded = json!({"summary": summary, "effects": world.effects()});
        insta::assert_json_snapshot!(event, recorded);
    }
}

#[tokio::test]
async fn a_payment_whose_webhook_never_came_is_found_and_its_message_queued() {
    let world = unpaid().await;
    world
        .http
        .reply(FETCH, 200, &razorpay_link("BM345A-12", "paid"));
    world.http.reply(REFUNDS, 200, &json!({"items": []}));
    run(&world).await;
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    let sent: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
    assert_eq!(sent, [MessageKey::Paid]);
}

#[tokio::test]
async fn with_nothing_due_a_run_is_one_query_for_each_shard() {
    let world = World::new();
    run(&world).await;
    let trips = world.network.round_trips();
    let [take, looks @ .., give_back] = trips.as_slice() else {
        panic!("{trips:?}")
    };
    assert_eq!(
        (take.as_str(), give_back.as_str()),
        ("store.take", "store.give_back")
    );
    assert_eq!(looks, ["store.due"; 8]);
}

#[tokio::test]
async fn an_order_does_not_expire_while_the_gateway_is_silent() {
    let world = unpaid().await;
    world.clock.advance(7200);
    world
        .http
        .answer(FETCH, Answer::NotSent("connection refused".to_owned()));
    assert_eq!(run(&world).await["failed"], 1);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);
    assert!(order(&world).due.is_some());

    world.clock.advance(7200);
    world
        .http
        .always(FETCH, reply(200, &razorpay_link("BM345A-12", "expired")));
    assert_eq!(run(&world).await["failed"], 0);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Expired);
    assert!(world.queue.sent().is_empty());
}

#[tokio::test]
async fn a_message_lost_between_store_and_queue_is_queued() {
    let world = World::new();
    world.order(vec![started()]).await;
    world.clock.advance(200);
    world
        .http
        .always(FETCH, reply(200, &razorpay_link("BM345A-12", "created")));
    run(&world).await;
    let sent: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
    assert_eq!(sent, [MessageKey::Invoice(1)]);
}

#[tokio::test]
async fn an_order_whose_link_was_never_made_is_resumed() {
    let world = World::new();
    world.order(Vec::new()).await;
    world.clock.advance(120);
    world
        .http
        .reply("razorpay.find_link", 200, &razorpay_links(&[]));
    world.http.reply(
        "razorpay.create_link",
        200,
        &razorpay_link("BM345A-12", "created"),
    );
    run(&world).await;
    assert!(order(&world).is_ready());
    assert_eq!(world.http.left_over(), 0);
    world.clock.advance(200);
    world
        .http
        .always(FETCH, reply(200, &razorpay_link("BM345A-12", "created")));
    run(&world).await;
    let sent: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
    assert_eq!(sent, [MessageKey::Invoice(1)]);
}

#[tokio::test]
async fn a_run_out_of_time_ends_and_says_so() {
    let world = unpaid().await;
    let soon = world.clock.now().plus_seconds(30).get();
    let summary = handle(&ports(&world), u64::try_from(soon).unwrap())
        .await
        .unwrap();
    assert_eq!(summary["unfinished"], true);
    assert!(world.http.labels().is_empty());
}

#[tokio::test]
async fn a_broken_tenant_does_not_hold_up_the_others_and_is_alarmed() {
    let (logs, _guard) = Logs::capture();
    let world = unpaid().await;
    world.tenants.spoil(&key("acme", "x").tenant, "broken");
    let summary = run(&world).await;
    assert_eq!(summary["failed"], 0);
    assert_eq!(logs.count("tenant_broken"), 1);
    assert!(order(&world).due.is_some());
}

#[tokio::test]
async fn a_settled_order_is_not_looked_at_again() {
    let world = World::new();
    let mut events = bill_sent();
    events.push(Event::Payment(captured(&bill(), "pay_1")));
    world.order(events).await;
    world.clock.advance(600);
    run(&world).await;
    assert!(world.http.labels().is_empty(), "paid: nobody is asked");
}

const REFUND: &str = "razorpay.create_refund";
const REFUND_STATUS: &str = "razorpay.fetch_refund";

/// Razorpay's word about a refund of `pay_1`, as ours when it names the token.
fn refund(payment_id: &str, paise: i64, status: &str, token: Option<String>) -> Value {
    json!({"id": "rfnd_1", "entity": "refund", "amount": paise, "currency": "INR", "payment_id": payment_id,
        "status": status, "speed_processed": "normal", "notes": [], "receipt": token, "created_at": 1_795_305_700})
}

/// An order of these terms with these events, an hour ago.
async fn settled(late: LatePayment, events: Vec<Event>) -> World {
    let world = World::new();
    let mut draft = draft(bill());
    draft.contents.terms.late_payment = late;
    let mut all = bill_sent();
    all.extend(events);
    world.order_of(draft, all).await;
    world.clock.advance(3600);
    world
}

#[tokio::test]
async fn money_that_the_terms_send_back_is_sent_back_once() {
    let second = report(AttemptStatus::Captured, "pay_2", 85_000);
    let events = vec![
        Event::Payment(captured(&bill(), "pay_1")),
        Event::Payment(second),
    ];
    let world = settled(LatePayment::Refund, events).await;
    let found = json!({"items": [paid("pay_1"), paid("pay_2")]});
    world.http.always(FETCH, reply(200, &link_paid_by("pay_1")));
    world.http.always(PAYMENTS, reply(200, &found));
    world
        .http
        .always(REFUNDS, reply(200, &json!({"items": []})));
    world
        .http
        .reply(REFUND, 200, &refund("pay_2", 85_000, "processed", None));
    for _ in 0..3 {
        run(&world).await;
        world.clock.advance(3600);
    }
    let labels = world.http.labels();
    assert_eq!(labels.iter().filter(|label| **label == REFUND).count(), 1);
    let call = world.http.calls().last().unwrap().clone();
    assert!(
        call.url.ends_with("/v1/payments/pay_2/refund"),
        "{}",
        call.url
    );
    let order = order(&world);
    assert_eq!(order.payment_status(), PaymentStatus::Captured);
    assert!(order.holds.is_empty());
    let told: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
    assert!(told.contains(&MessageKey::Refund(1)));
}

const PAYMENTS: &str = "razorpay.order_payments";

fn paid(payment_id: &str) -> Value {
    json!({"id": payment_id, "amount": 85_000, "currency": "INR", "status": "captured", "captured": true, "method": "upi",
        "created_at": 1_795_305_600})
}

/// Our link, which lists nothing itself, so that its order is asked.
fn link_paid_by(payment_id: &str) -> Value {
    let mut link = razorpay_link("BM345A-12", "partially_paid");
    link["order_id"] = json!("order_1");
    link["payments"] = json!([{"payment_id": payment_id, "amount": 85_000, "status": "captured", "method": "upi"}, {}]);
    link
}

/// What our own link does not tell of may be somebody else's money. Field report B01.
#[tokio::test]
async fn money_not_found_under_our_link_never_goes_back() {
    let late = report(AttemptStatus::Captured, "pay_FOREIGN1", 85_000);
    let events = vec![
        Event::Payment(captured(&bill(), "pay_1")),
        Event::Payment(late),
    ];
    let world = settled(LatePayment::Refund, events).await;
    world.http.always(FETCH, reply(200, &link_paid_by("pay_1")));
    world
        .http
        .always(PAYMENTS, reply(200, &json!({"items": [paid("pay_1")]})));
    world
        .http
        .always(REFUNDS, reply(200, &json!({"items": []})));
    let (logs, _guard) = Logs::capture();
    for _ in 0..3 {
        run(&world).await;
        world.clock.advance(3600);
    }
    assert!(!world.http.labels().contains(&REFUND));
    assert_eq!(logs.count("order_held"), 1);
    let order = order(&world);
    let held: Vec<&str> = order.holds.iter().map(|(hold, ..)| hold.as_str()).collect();
    assert_eq!(held, ["double_payment"]);
    assert!(order.refunds.list().is_empty());
}

/// While our link cannot be asked, nothing goes back, and it is tried again.
#[tokio::test]
async fn nothing_goes_back_while_the_gateway_is_silent() {
    let events = vec![
        Event::Payment(captured(&bill(), "pay_1")),
        Event::Payment(report(AttemptStatus::Captured, "pay_2", 85_000)),
    ];
    let world = settled(LatePayment::Refund, events).await;
    world
        .http
        .always(FETCH, Answer::NotSent("connection refused".to_owned()));
    assert_eq!(run(&world).await["failed"], 1);
    assert_eq!(world.http.labels(), [FETCH]);
    assert!(order(&world).holds.is_empty() && order(&world).due.is_some());
}

/// A payment that was spoken of too early: our own link is asked within a minute of there being one.
#[tokio::test]
async fn a_hint_makes_us_ask_our_link_within_a_minute() {
    let world = World::new();
    let hint = Event::Hint {
        payment_id: "pay_1".to_owned(),
    };
    world.order(vec![hint, started()]).await;
    let due = order(&world).next_check(world.clock.now()).unwrap();
    assert!(due <= world.clock.now().plus_seconds(60), "{due:?}");
    world.clock.advance(60);
    world
        .http
        .reply(FETCH, 200, &razorpay_link("BM345A-12", "paid"));
    world.http.reply(REFUNDS, 200, &json!({"items": []}));
    run(&world).await;
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
}

/// A tenant that has moved to another account, gateway or mode while the bill was open.
async fn moved(payment: Value) -> World {
    let world = World::with(|document| {
        let mut before = document["payment"].clone();
        before.as_object_mut().unwrap().remove("configuration_name");
        before["base_url"] = json!("https://before.example");
        document["payment"] = payment;
        document["payment"]["previous"] = json!([before]);
    });
    world.order(bill_sent()).await;
    world.clock.advance(600);
    world
}

#[tokio::test]
async fn an_open_bill_is_asked_about_where_it_was_made() {
    let other_account = json!({"mode": "payment_link", "gateway": "razorpay",
        "credentials": {"key_id": "rzp_test_2", "key_secret": "s", "webhook_secrets": ["w"]}});
    let other_gateway = json!({"mode": "payment_link", "gateway": "zaakpay", "credentials": {
        "merchant_identifier": "m1", "secret_keys": ["0123456789abcdef0123456789abcdef"], "buyer_email": "pay@shop.example"}});
    let other_mode = json!({"mode": "payment_gateway", "configuration_name": "acme-upi", "gateway": "razorpay",
        "credentials": {"key_id": "rzp_test_2", "key_secret": "s", "webhook_secrets": ["w"]}});
    for payment in [other_account, other_gateway, other_mode] {
        let world = moved(payment.clone()).await;
        world
            .http
            .reply(FETCH, 200, &razorpay_link("BM345A-12", "paid"));
        world.http.reply(REFUNDS, 200, &json!({"items": []}));
        run(&world).await;
        assert_eq!(
            order(&world).payment_status(),
            PaymentStatus::Captured,
            "{payment}"
        );
        let urls: Vec<String> = world.http.calls().into_iter().map(|c| c.url).collect();
        assert!(
            urls.iter()
                .all(|u| u.starts_with("https://before.example/")),
            "{urls:?}"
        );
    }
}

#[tokio::test]
async fn a_refund_whose_answer_was_lost_is_found_by_asking() {
    let events = vec![
        Event::Payment(captured(&bill(), "pay_1")),
        Event::RefundAsked {
            id: "a".to_owned(),
            amount: Some(Paise::new(10_000).unwrap()),
            payment_id: None,
            speed: Speed::Normal,
            reason: None,
        },
        Event::RefundEnded {
            id: "a".to_owned(),
            outcome: RefundOutcome::Unknown,
            error: "unknown: time-out".to_owned(),
            obstacle: None,
        },
    ];
    let world = settled(LatePayment::Hold, events).await;
    let token = chatbill_domain::refund::token(&key("acme", "BM345A-12"), "a");
    let found = refund("pay_1", 10_000, "pending", Some(token));
    world.http.reply(REFUNDS, 200, &json!({"items": [found]}));
    run(&world).await;
    assert_eq!(order(&world).refunding_amount().get(), 10_000);
    // Then until it is final, under the gateway's own id.
    world.clock.advance(3600);
    world.http.reply(
        REFUND_STATUS,
        200,
        &refund("pay_1", 10_000, "processed", None),
    );
    run(&world).await;
    assert_eq!(order(&world).refunded_amount().get(), 10_000);
    assert_eq!(
        order(&world).payment_status(),
        PaymentStatus::PartiallyRefunded
    );
    world.clock.advance(3600);
    run(&world).await;
    assert_eq!(
        world.http.labels(),
        [REFUNDS, REFUND_STATUS],
        "final, and asked no more"
    );
}

#[tokio::test]
async fn a_held_order_is_mentioned_each_day_until_it_is_settled() {
    let short = report(AttemptStatus::Captured, "pay_9", 84_999);
    let events = vec![
        Event::Payment(captured(&bill(), "pay_1")),
        Event::Payment(short),
    ];
    let world = settled(LatePayment::Hold, events).await;
    let reminders = |world: World| async move {
        let (logs, _guard) = Logs::capture();
        for _ in 0..(3 * 24 * 12) {
            run(&world).await;
            world.clock.advance(300);
        }
        logs.lines()
            .iter()
            .filter(|line| line.contains("order_held"))
            .count()
    };
    // Looks at other things may shift it by an hour.
    assert!((2..=3).contains(&reminders(world.clone()).await));
    let decision = Event::Settled {
        payment_id: "pay_9".to_owned(),
        accept: false,
    };
    world.happen(&key("acme", "BM345A-12"), decision).await;
    assert_eq!(reminders(world).await, 0);
}

/// Whether a run was let in.
async fn let_in(world: &World) -> bool {
    run(world).await.get("skipped").is_none()
}

#[tokio::test]
async fn two_runs_never_overlap() {
    let world = World::new();
    let (now, clock) = (world.clock.now(), &world.clock);
    // Another environment is at it and has 270 seconds.
    let end = now.plus_seconds(270 + MARGIN);
    assert!(world.store.take(LEASE, "other", now, end).await.unwrap());
    world.network.reset();
    let (logs, _guard) = Logs::capture();
    assert_eq!(run(&world).await, json!({"skipped": true}));
    assert_eq!(world.network.round_trips(), ["store.take"]);
    assert_eq!(logs.count("reconciled"), 0);
    // It ends: the next one is let in, and the one after that.
    world.store.give_back(LEASE, "other").await.unwrap();
    assert!(let_in(&world).await && let_in(&world).await);
    assert_eq!(logs.count("reconciled"), 2);
    // It dies: the schedule's next run takes over.
    assert!(world.store.take(LEASE, "dead", now, end).await.unwrap());
    clock.advance(299);
    assert!(let_in(&world).await);
}

#[tokio::test]
async fn a_run_that_fails_leaves_the_lease_to_the_next() {
    let world = World::new();
    world.network.break_at(1, Break::Request);
    let deadline = world.clock.now().plus_seconds(270).get();
    let failed = handle(&ports(&world), u64::try_from(deadline).unwrap()).await;
    assert!(failed.is_err());
    let other = world.clock.now();
    let free = world
        .store
        .take(LEASE, "other", other, other.plus_seconds(1));
    assert!(free.await.unwrap());
}

#[tokio::test]
async fn a_message_beyond_its_planned_time_is_told_of() {
    let world = World::new();
    world.order(vec![started()]).await;
    world.clock.advance(600);
    world
        .http
        .always(FETCH, reply(200, &razorpay_link("BM345A-12", "created")));
    let (logs, _guard) = Logs::capture();
    run(&world).await;
    assert_eq!(logs.count("message_overdue"), 1, "{:?}", logs.lines());
}
