use chatbill_domain::event::Event;
use chatbill_domain::http::Answer;
use chatbill_domain::message::MessageKey;
use chatbill_domain::order::{Order, PaymentStatus};
use chatbill_domain::payment::AttemptStatus;
use chatbill_domain::refund::RefundState;
use chatbill_testkit::builders::{bill, captured, key, report};
use chatbill_testkit::events;
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{
    FixedClock, MemoryOrders, MemoryQueue, MemoryTenants, ScriptedHttp, reply,
};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{World, started};
use serde_json::{Value, json};

use super::*;

const FUNCTION: &str = "refund";
const CALL: &str = "razorpay.create_refund";
const LIST: &str = "razorpay.list_refunds";

type InMemory = Ports<MemoryOrders, MemoryQueue, MemoryTenants, ScriptedHttp, FixedClock>;

fn ports(world: &World) -> InMemory {
    Ports {
        store: world.store.clone(),
        queue: world.queue.clone(),
        tenants: world.tenants.clone(),
        http: world.http.clone(),
        clock: world.clock.clone(),
    }
}

async fn answer(world: &World, request: Request) -> Response<Body> {
    let answer = handle(&ports(world), request).await;
    answer.unwrap_or_else(|error| error.into_response("request-1"))
}

/// `post.json` with this body.
fn asking(body: &Value) -> Request {
    events::request_with(FUNCTION, "post", |payload| {
        payload["body"] = json!(body.to_string())
    })
}

async fn ask(world: &World, body: Value) -> (u16, Value) {
    let response = answer(world, asking(&body)).await;
    let status = response.status().as_u16();
    match response.body() {
        Body::Text(text) => (status, serde_json::from_str(text).unwrap()),
        other => panic!("not a text: {other:?}"),
    }
}

fn part(id: &str, paise: i64) -> Value {
    json!({"refund_id": id, "amount": {"value": paise, "offset": 100}})
}

async fn paid() -> World {
    let world = World::new();
    // Its messages are out of the way.
    let skipped = |message| Event::Skipped {
        message,
        why: "a test".to_owned(),
    };
    let events = vec![
        started(),
        skipped(MessageKey::Invoice(1)),
        Event::Payment(captured(&bill(), "pay_1")),
        skipped(MessageKey::Paid),
    ];
    world.order(events).await;
    world
}

fn order(world: &World) -> Order {
    world.store.order(&key("acme", "BM345A-12")).unwrap()
}

/// Razorpay's answer to a refund.
fn refunded(id: &str, paise: i64, status: &str) -> Value {
    json!({"id": id, "entity": "refund", "amount": paise, "currency": "INR", "payment_id": "pay_1",
        "status": status, "speed_processed": "normal", "notes": [], "receipt": null, "created_at": 1_795_305_700})
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        "post",
        "post-part",
        "settle",
        "get",
        "unknown-order",
        "no-key",
        "with-key-of-another-tenant",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = paid().await;
        let second = report(AttemptStatus::Captured, "pay_2", 85_000);
        world
            .happen(&key("acme", "BM345A-12"), Event::Payment(second))
            .await;
        let paise = if event == "post-part" { 10_000 } else { 85_000 };
        world
            .http
            .reply(CALL, 200, &refunded("rfnd_1", paise, "pending"));
        let response = answer(&world, events::request(FUNCTION, event)).await;
        logs.assert_discreet();
        let recorded = json!({"answer": events::answer(&response), "effects": world.effects()});
        insta::assert_json_snapshot!(event, recorded);
    }
}

#[tokio::test]
async fn a_refund_is_four_round_trips_and_one_more_for_its_news() {
    let world = paid().await;
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 10_000, "pending"));
    world.network.reset();
    assert_eq!(ask(&world, part("a", 10_000)).await.0, 201);
    assert_eq!(
        world.network.round_trips(),
        ["store.load", "store.append", CALL, "store.append"]
    );
    let world = paid().await;
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 85_000, "processed"));
    world.network.reset();
    let queued = world.queue.sent().len();
    let (status, body) = ask(&world, part("a", 85_000)).await;
    assert_eq!((status, &body["status"]), (201, &json!("processed")));
    assert_eq!(order(&world).payment_status(), PaymentStatus::Refunded);
    let told = world.queue.sent().split_off(queued);
    assert!(told.iter().any(|t| t.message == MessageKey::Refund(1)));
}

#[tokio::test]
async fn the_same_request_again_is_the_same_refund_and_another_is_a_conflict() {
    let world = paid().await;
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 10_000, "pending"));
    let first = ask(&world, part("a", 10_000)).await;
    let second = ask(&world, part("a", 10_000)).await;
    assert_eq!((first.0, second.0), (201, 200));
    assert_eq!(first.1, second.1);
    assert_eq!(world.http.calls().len(), 1);
    let other = ask(&world, part("a", 10_001)).await;
    assert_eq!(
        (other.0, &other.1["code"]),
        (409, &json!("refund_id_conflict"))
    );
    // Without a name the header is one.
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_2", 500, "pending"));
    let with_key = || {
        events::request_with(FUNCTION, "post", |payload| {
            payload["body"] = json!(r#"{"amount": {"value": 500, "offset": 100}}"#);
            payload["headers"]["Idempotency-Key"] = json!("till-7");
            payload["multiValueHeaders"]["Idempotency-Key"] = json!(["till-7"]);
        })
    };
    assert_eq!(answer(&world, with_key()).await.status(), 201);
    assert_eq!(answer(&world, with_key()).await.status(), 200);
    assert_eq!(world.http.calls().len(), 2);
}

#[tokio::test]
async fn more_than_is_left_is_refused_before_the_gateway_is_asked() {
    let world = paid().await;
    world
        .http
        .always(CALL, reply(200, &refunded("rfnd_1", 51_000, "pending")));
    let (first, second) = tokio::join!(
        ask(&world, part("a", 51_000)),
        ask(&world, part("b", 51_000))
    );
    let mut seen = [first.0, second.0];
    seen.sort_unstable();
    assert_eq!(seen, [201, 409]);
    let refused = if first.0 == 409 { first.1 } else { second.1 };
    assert_eq!(refused["code"], "refund_exceeds_captured");
    assert!(refused["detail"].as_str().unwrap().contains("340.00"));
    assert_eq!(world.http.calls().len(), 1);
}

fn events(world: &World) -> usize {
    order(world).events.len()
}

fn refund_calls(world: &World) -> usize {
    let calls = world.http.calls();
    calls.iter().filter(|c| c.label == CALL).count()
}

/// Sent twice, a part without a name would be two refunds.
#[tokio::test]
async fn a_part_without_a_name_is_refused() {
    let world = paid().await;
    let before = events(&world);
    for wanted in [
        json!({"amount": {"value": 10_000, "offset": 100}}),
        json!({"amount": {"value": 84_999, "offset": 100}, "payment_id": "pay_1"}),
        // More than all is no whole, either.
        json!({"amount": {"value": 85_001, "offset": 100}}),
        json!({"amount": {"value": 85_000, "offset": 100}, "payment_id": "pay_9"}),
    ] {
        let (status, body) = ask(&world, wanted).await;
        assert_eq!(
            (status, &body["code"], &body["errors"][0]["pointer"]),
            (400, &json!("refund_id_required"), &json!("/refund_id"))
        );
    }
    assert_eq!((events(&world), world.http.calls().len()), (before, 0));
}

#[tokio::test]
async fn a_whole_refund_without_a_name_is_one_however_it_is_put() {
    let all = json!({"amount": {"value": 85_000, "offset": 100}});
    let of_it = json!({"amount": {"value": 85_000, "offset": 100}, "payment_id": "pay_1"});
    let ways = [json!({}), all, of_it, json!({"payment_id": "pay_1"})];
    for first in &ways {
        let world = paid().await;
        world
            .http
            .reply(CALL, 200, &refunded("rfnd_1", 85_000, "pending"));
        let (status, made) = ask(&world, first.clone()).await;
        assert_eq!(status, 201, "{made}");
        for again in &ways {
            assert_eq!(ask(&world, again.clone()).await, (200, made.clone()));
        }
        assert_eq!(refund_calls(&world), 1);
        // Another wish than the one under way is not it.
        let (status, other) = ask(&world, json!({"speed": "instant"})).await;
        assert_eq!(
            (status, &other["code"]),
            (409, &json!("refund_exceeds_captured"))
        );
        let mut named = first.clone();
        named["refund_id"] = made["refund_id"].clone();
        assert_eq!(ask(&world, named).await.0, 200, "by the name it was given");
    }
}

#[tokio::test]
async fn what_is_left_after_parts_goes_back_once_without_a_name() {
    let world = paid().await;
    for (id, paise) in [("rfnd_1", 10_000), ("rfnd_2", 75_000)] {
        world.http.reply(CALL, 200, &refunded(id, paise, "pending"));
    }
    assert_eq!(ask(&world, part("a", 10_000)).await.0, 201);
    // All that was captured is more than is left now.
    let all = json!({"amount": {"value": 85_000, "offset": 100}});
    let (status, body) = ask(&world, all.clone()).await;
    assert_eq!(
        (status, &body["code"]),
        (409, &json!("refund_exceeds_captured"))
    );
    let (status, rest) = ask(&world, json!({})).await;
    assert_eq!(
        (status, &rest["amount"]["value"]),
        (201, &json!(75_000)),
        "{rest}"
    );
    assert_eq!(ask(&world, json!({})).await, (200, rest));
    assert_eq!(ask(&world, all).await.0, 409);
    assert_eq!(refund_calls(&world), 2);
    // The part fails after all: its money is left again, and asked back by the next whole one.
    let failed = Event::Refund {
        id: Some("a".to_owned()),
        report: chatbill_domain::payment::RefundReport {
            status: chatbill_domain::payment::RefundStatus::Failed,
            id: Some("rfnd_1".to_owned()),
            name: None,
            payment_id: "pay_1".to_owned(),
            amount: chatbill_domain::money::Paise::new(10_000).unwrap(),
            speed: None,
            bank_reference: None,
            error: None,
            at: None,
        },
    };
    world.happen(&key("acme", "BM345A-12"), failed).await;
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_3", 10_000, "pending"));
    let (status, last) = ask(&world, json!({})).await;
    assert_eq!((status, &last["amount"]["value"]), (201, &json!(10_000)));
    assert_eq!(ask(&world, json!({})).await, (200, last));
}

#[tokio::test]
async fn a_whole_refund_that_failed_is_followed_by_the_next() {
    let world = paid().await;
    let refusal = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "This payment cannot be refunded"}});
    world.http.reply(CALL, 400, &refusal);
    assert_eq!(ask(&world, json!({})).await.0, 422);
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 85_000, "pending"));
    let (status, made) = ask(&world, json!({})).await;
    assert_eq!(status, 201);
    assert_eq!(ask(&world, json!({})).await, (200, made));
    assert_eq!(refund_calls(&world), 2);
}

#[tokio::test]
async fn a_second_payment_goes_back_whole_without_a_name() {
    let world = paid().await;
    let second = report(AttemptStatus::Captured, "pay_2", 85_000);
    world
        .happen(&key("acme", "BM345A-12"), Event::Payment(second))
        .await;
    let mut of_second = refunded("rfnd_2", 85_000, "processed");
    of_second["payment_id"] = json!("pay_2");
    world.http.reply(CALL, 200, &of_second);
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 85_000, "processed"));
    let (status, second) = ask(&world, json!({"payment_id": "pay_2"})).await;
    assert_eq!((status, &second["payment_id"]), (201, &json!("pay_2")));
    let (status, first) = ask(&world, json!({})).await;
    assert_eq!((status, &first["payment_id"]), (201, &json!("pay_1")));
    assert_eq!(
        ask(&world, json!({"payment_id": "pay_2"})).await,
        (200, second)
    );
    assert_eq!(refund_calls(&world), 2);
}

/// What could never be made leaves no event, so that a till gone wild fills nothing.
#[tokio::test]
async fn what_can_never_fit_is_not_even_written() {
    let world = paid().await;
    let before = events(&world);
    for _ in 0..3 {
        for (wanted, status, code) in [
            (part("a", 85_001), 409, "refund_exceeds_captured"),
            // Razorpay refunds no less than a rupee.
            (part("b", 99), 400, "invalid_request"),
            (
                json!({"refund_id": "c", "payment_id": "pay_9"}),
                409,
                "nothing_paid",
            ),
        ] {
            let (got, body) = ask(&world, wanted).await;
            assert_eq!((got, &body["code"]), (status, &json!(code)));
        }
    }
    assert_eq!((events(&world), world.http.calls().len()), (before, 0));
    // And it has used up no name.
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 10_000, "pending"));
    assert_eq!(ask(&world, part("a", 10_000)).await.0, 201);

    let unpaid = World::new();
    unpaid.order(vec![started()]).await;
    let before = events(&unpaid);
    for wanted in [json!({}), json!({"refund_id": "a"}), part("a", 100)] {
        assert_eq!(ask(&unpaid, wanted).await.0, 409);
    }
    assert_eq!(events(&unpaid), before);
}

/// A call ends early enough for what it did to be written down, also when the table is slow.
#[test]
fn the_longest_write_fits_into_what_calls_leave_over() {
    let reserve = chatbill_runtime::budget::REQUEST.reserve;
    assert!(reserve > chatbill_store::LONGEST_OPERATION);
}

#[tokio::test]
async fn an_ask_that_cannot_count_is_refused_unwritten() {
    let world = paid().await;
    let unpaid = World::new();
    unpaid.order(vec![started()]).await;
    for (world, code) in [
        (&world, "refund_exceeds_captured"),
        (&unpaid, "nothing_paid"),
    ] {
        let before = order(world);
        for n in 0..3 {
            let (status, body) = ask(world, part(&format!("x-{n}"), 85_001)).await;
            assert_eq!((status, &body["code"]), (409, &json!(code)));
        }
        assert_eq!(order(world).events, before.events);
    }
}

#[tokio::test]
async fn refunds_count_among_the_asks_of_an_order() {
    let world = paid().await;
    for n in 0..100 {
        let to = if n % 2 == 0 {
            chatbill_domain::message::Fulfilment::Processing
        } else {
            chatbill_domain::message::Fulfilment::Shipped
        };
        let description = None;
        let event = Event::Fulfilment { to, description };
        world.happen(&key("acme", "BM345A-12"), event).await;
    }
    let before = order(&world);
    let (status, body) = ask(&world, part("a", 100)).await;
    assert_eq!((status, &body["code"]), (409, &json!("too_many_refunds")));
    assert_eq!(order(&world).events, before.events);
    assert!(world.http.calls().is_empty());
}

#[tokio::test]
async fn nothing_is_refunded_of_an_open_bill() {
    let world = World::new();
    world.order(vec![started()]).await;
    let (status, body) = ask(&world, part("a", 100)).await;
    assert_eq!((status, &body["code"]), (409, &json!("nothing_paid")));
    assert!(world.http.calls().is_empty());
}

#[tokio::test]
async fn a_lost_answer_is_asked_about_and_never_repeated_blindly() {
    let world = paid().await;
    world.http.answer(CALL, Answer::Lost("time-out".to_owned()));
    world.http.always(LIST, Answer::Lost("time-out".to_owned()));
    let (status, body) = ask(&world, part("a", 10_000)).await;
    assert_eq!((status, &body["status"]), (202, &json!("unknown")));
    // Soon after, the till asks again: nobody is asked to refund.
    assert_eq!(ask(&world, part("a", 10_000)).await.0, 202);
    world.clock.advance(121);
    // The gateway knows of none, but the first call may still be on its way.
    world.http.always(LIST, reply(200, &json!({"items": []})));
    assert_eq!(ask(&world, part("a", 10_000)).await.0, 202);
    let refunds = || {
        world
            .http
            .calls()
            .iter()
            .filter(|c| c.label == CALL)
            .count()
    };
    assert_eq!(refunds(), 1);
    world.clock.advance(600);
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 10_000, "pending"));
    assert_eq!(ask(&world, part("a", 10_000)).await.0, 200);
    assert_eq!(refunds(), 2);
    let tokens: Vec<_> = world
        .http
        .calls()
        .iter()
        .filter(|c| c.label == CALL)
        .map(|c| format!("{:?}", c.headers))
        .collect();
    assert_eq!(tokens[0], tokens[1], "under the same idempotency key");
    assert_eq!(
        order(&world).refunds.find("a").unwrap().state,
        RefundState::Pending
    );
}

#[tokio::test]
async fn a_refused_refund_frees_its_money_and_says_why_each_time() {
    let world = paid().await;
    let refusal = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "The payment has been fully refunded already"}});
    world.http.reply(CALL, 400, &refusal);
    world.http.always(LIST, reply(200, &json!({"items": []})));
    let first = ask(&world, part("a", 10_000)).await;
    assert_eq!(
        (first.0, &first.1["code"]),
        (422, &json!("provider_refused"))
    );
    assert_eq!(ask(&world, part("a", 10_000)).await.0, 422);
    assert_eq!(order(&world).refunding_amount().get(), 0);
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 85_000, "processed"));
    assert_eq!(ask(&world, json!({"refund_id": "b"})).await.0, 201);
}

/// Field report B18: the same refund works a day later.
fn low_balance() -> Value {
    json!({"error": {"code": "BAD_REQUEST_ERROR",
        "description": "Your account does not have enough balance to carry out the refund operation."}})
}

#[tokio::test]
async fn a_refund_short_of_balance_is_pending_with_its_reason() {
    let (logs, _guard) = Logs::capture();
    let world = paid().await;
    world.http.reply(CALL, 400, &low_balance());
    let wanted =
        json!({"refund_id": "a", "amount": {"value": 10_000, "offset": 100}, "reason": "torn bag"});
    let (status, first) = ask(&world, wanted.clone()).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(first["status"], "pending");
    assert_eq!(first["reason"], "insufficient_balance");
    assert_eq!(order(&world).refunding_amount().get(), 10_000);
    let told =
        |line: &&String| line.contains("refund_not_now") && line.contains("insufficient_balance");
    assert_eq!(logs.lines().iter().filter(told).count(), 1);

    // Asked at once again, it is the same refund, and the gateway is left alone.
    assert_eq!(ask(&world, wanted.clone()).await, (200, first));
    assert_eq!(world.http.calls().len(), 1);

    // Topped up: the same refund under the same token, and the shop's own reason is back.
    world.clock.advance(61);
    world
        .http
        .reply(CALL, 200, &refunded("rfnd_1", 10_000, "processed"));
    let (status, done) = ask(&world, wanted).await;
    assert_eq!((status, &done["status"]), (200, &json!("processed")));
    assert_eq!(done["reason"], "torn bag");
    let keys: Vec<_> = world
        .http
        .calls()
        .iter()
        .map(|c| format!("{:?}", c.headers))
        .collect();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
    assert_eq!(order(&world).refunded_amount().get(), 10_000);
}

#[tokio::test]
async fn a_cut_line_loses_no_refund_and_makes_none_twice() {
    for at in 0..4 {
        for side in [Break::Request, Break::Answer] {
            let world = paid().await;
            world
                .http
                .reply(CALL, 200, &refunded("rfnd_1", 10_000, "processed"));
            world.http.always(LIST, reply(200, &json!({"items": []})));
            world.network.reset();
            world.network.break_at(at, side);
            ask(&world, part("a", 10_000)).await;
            let taken = world
                .http
                .calls()
                .iter()
                .filter(|c| c.label == CALL)
                .count();
            world.network.restore();
            world.clock.advance(1000);
            // The gateway remembers what reached it, by the token we sent.
            if taken > 0 {
                let token = chatbill_domain::refund::token(&key("acme", "BM345A-12"), "a");
                let mut done = refunded("rfnd_1", 10_000, "processed");
                done["receipt"] = json!(token);
                world
                    .http
                    .always(LIST, reply(200, &json!({"items": [done]})));
                world
                    .http
                    .always("razorpay.fetch_refund", reply(200, &done));
            } else {
                world
                    .http
                    .reply(CALL, 200, &refunded("rfnd_1", 10_000, "processed"));
            }
            ask(&world, part("a", 10_000)).await;
            world.clock.advance(1000);
            ask(&world, part("a", 10_000)).await;
            assert_eq!(
                order(&world).refunded_amount().get(),
                10_000,
                "cut at {at} {side:?}"
            );
            let calls = world
                .http
                .calls()
                .iter()
                .filter(|c| c.label == CALL)
                .count();
            assert_eq!(calls, 1, "cut at {at} {side:?}");
        }
    }
}

#[tokio::test]
async fn held_money_is_settled_by_a_person_once() {
    let world = paid().await;
    let second = report(AttemptStatus::Captured, "pay_2", 85_000);
    world
        .happen(&key("acme", "BM345A-12"), Event::Payment(second))
        .await;
    assert_eq!(order(&world).holds.len(), 1);
    for _ in 0..2 {
        let response = answer(&world, events::request(FUNCTION, "settle")).await;
        assert_eq!(response.status(), 200);
        assert!(order(&world).holds.is_empty());
    }
    let unheld = events::request_with(FUNCTION, "settle", |payload| {
        payload["body"] = json!(r#"{"payment_id": "pay_9", "decision": "dismiss"}"#);
    });
    assert_eq!(answer(&world, unheld).await.status(), 409);
}

#[tokio::test]
async fn every_fault_of_a_body_is_named() {
    let world = paid().await;
    let (status, body) = ask(
        &world,
        json!({"refund_id": "../x", "amount": {"value": -1, "offset": 100}, "speed": "fast", "reason": "x".repeat(200), "why": 1}),
    )
    .await;
    assert_eq!(status, 400);
    let pointers: Vec<&str> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    for pointer in ["/refund_id", "/amount/value", "/speed", "/reason", "/why"] {
        assert!(pointers.contains(&pointer), "{pointer}: {pointers:?}");
    }
}
