use chatbill_domain::event::Event;
use chatbill_domain::http::Answer;
use chatbill_domain::message::MessageKey;
use chatbill_domain::order::{MessageStatus, PaymentStatus};
use chatbill_testkit::builders::{bill, captured, key};
use chatbill_testkit::events::{self, json_body};
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{
    FixedClock, MemoryOrders, MemoryQueue, MemoryTenants, ScriptedHttp, reply,
};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{World, bill_sent, razorpay_error, razorpay_link, started};
use serde_json::json;

use super::*;

const FUNCTION: &str = "change";
const CANCEL: &str = "razorpay.cancel_link";
const REFUNDS: &str = "razorpay.list_refunds";
const FETCH: &str = "razorpay.fetch_link";

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

async fn ask(world: &World, request: Request) -> Response<Body> {
    let answer = handle(&ports(world), request).await;
    answer.unwrap_or_else(|error| error.into_response("request-1"))
}

async fn send(world: &World, event: &str) -> Response<Body> {
    ask(world, events::request(FUNCTION, event)).await
}

fn code(response: &Response<Body>) -> (u16, String) {
    let body = json_body(response);
    let code = body["code"].as_str().unwrap_or_default();
    (response.status().as_u16(), code.to_owned())
}

fn order(world: &World) -> Order {
    world.store.order(&key("acme", "BM345A-12")).unwrap()
}

fn paid() -> Event {
    Event::Payment(captured(&bill(), "pay_1"))
}

async fn billed() -> World {
    let world = World::new();
    world.order(bill_sent()).await;
    world
}

async fn settled() -> World {
    let world = World::new();
    let mut events = bill_sent();
    events.push(paid());
    world.order(events).await;
    world
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        "unknown",
        "no-key",
        "key-without-scope",
        "status-shipped",
        "status-base64",
        "status-canceled",
        "status-illegal",
        "status-unknown-word",
        "resend",
        "resend-to-corrected-phone",
        "resend-to-no-phone",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = match event {
            "status-illegal" => settled().await,
            _ => billed().await,
        };
        let link = razorpay_link("BM345A-12", "cancelled");
        world.http.always(CANCEL, reply(200, &link));
        let response = send(&world, event).await;
        logs.assert_discreet();
        let recorded = json!({"answer": events::answer(&response), "effects": world.effects()});
        insta::assert_json_snapshot!(event, recorded);
    }
}

#[tokio::test]
async fn another_tenant_finds_nothing_and_changes_nothing() {
    let world = billed().await;
    let before = order(&world).events;
    for event in ["status-shipped", "status-canceled", "resend"] {
        let mut request = events::request(FUNCTION, event);
        let other = chatbill_testkit::world::OTHER_KEY.parse().unwrap();
        request.headers_mut().insert("x-api-key", other);
        assert_eq!(
            code(&ask(&world, request).await),
            (404, "not_found".to_owned())
        );
    }
    assert_eq!(order(&world).events, before);
}

#[tokio::test]
async fn cancelling_closes_the_link_before_it_says_so() {
    let world = billed().await;
    let link = razorpay_link("BM345A-12", "cancelled");
    world.http.reply(CANCEL, 200, &link);
    let response = send(&world, "status-canceled").await;
    assert_eq!(response.status(), 200);
    assert_eq!(json_body(&response)["payment_status"], "canceled");
    let trips = ["store.load", CANCEL, "store.append", "queue.send"];
    assert_eq!(world.network.round_trips(), trips);
}

#[tokio::test]
async fn an_order_just_paid_is_not_canceled_but_becomes_paid() {
    let world = billed().await;
    let refusal = razorpay_error("cannot cancel or expire an already paid/partially paid link");
    world.http.reply(CANCEL, 400, &refusal);
    world
        .http
        .reply(FETCH, 200, &razorpay_link("BM345A-12", "paid"));
    world.http.reply(REFUNDS, 200, &json!({"items": []}));
    let response = send(&world, "status-canceled").await;
    assert_eq!(code(&response), (409, "illegal_transition".to_owned()));
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    let sent: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
    assert_eq!(sent, [MessageKey::Paid]);
    // From now on it is known, and nobody is asked.
    assert_eq!(code(&send(&world, "status-canceled").await).0, 409);
    assert_eq!(world.http.labels(), [CANCEL, FETCH, REFUNDS]);
}

#[tokio::test]
async fn without_the_gateway_s_word_nothing_is_canceled() {
    for answer in [
        Answer::NotSent("connection refused".to_owned()),
        Answer::Lost("time-out".to_owned()),
    ] {
        let world = billed().await;
        world.http.answer(CANCEL, answer);
        world
            .http
            .always(FETCH, Answer::NotSent("connection refused".to_owned()));
        let response = send(&world, "status-canceled").await;
        assert_eq!(code(&response), (503, "gateway_unavailable".to_owned()));
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);
    }
}

#[tokio::test]
async fn the_same_status_twice_is_one_change_and_one_message() {
    let world = billed().await;
    for _ in 0..2 {
        assert_eq!(send(&world, "status-shipped").await.status(), 200);
    }
    assert_eq!(order(&world).events.len(), 5);
    assert_eq!(world.queue.sent().len(), 1);
}

#[tokio::test]
async fn a_bill_goes_to_the_corrected_number_under_a_reference_of_its_own() {
    let world = billed().await;
    assert_eq!(
        send(&world, "resend-to-corrected-phone").await.status(),
        200
    );
    let order = order(&world);
    assert_eq!(order.phone.e164(), "+919812345678");
    assert_eq!(order.message_reference.as_str(), "BM345A-12-2");
    let sent: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
    assert_eq!(sent, [MessageKey::Invoice(2)]);
    // It is still the same order under its own number, and the reference of the sending is nobody else's.
    let taken = chatbill_testkit::builders::bill_with(|document| {
        document["reference_id"] = json!("BM345A-12-2");
    });
    let draft = chatbill_testkit::builders::draft(taken);
    let created = world.store.create(&draft).await.unwrap();
    assert!(matches!(created, chatbill_domain::ports::Created::Taken));
}

#[tokio::test]
async fn a_bill_on_its_way_to_the_same_number_is_not_sent_twice() {
    let world = World::new();
    world.order(vec![started()]).await;
    for _ in 0..2 {
        assert_eq!(send(&world, "resend").await.status(), 200);
    }
    let sent: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
    assert_eq!(sent, [MessageKey::Invoice(1)]);
    assert_eq!(order(&world).messages[0].status, MessageStatus::Queued);
}

#[tokio::test]
async fn what_is_paid_or_has_no_payment_yet_is_not_sent_again() {
    let world = settled().await;
    assert_eq!(code(&send(&world, "resend").await).0, 409);
    let world = World::new();
    world.order(Vec::new()).await;
    assert_eq!(code(&send(&world, "resend").await).0, 409);
    assert!(world.queue.sent().is_empty());
}

#[tokio::test]
async fn wherever_a_resend_breaks_the_same_request_again_ends_in_one_more_message() {
    for how in [Break::Request, Break::Answer] {
        for trip in 0..4 {
            let world = billed().await;
            world.network.break_at(trip, how);
            let first = send(&world, "resend").await;
            assert_eq!(first.status(), 503, "{how:?} {trip}");
            events::assert_discreet(&first);
            assert_eq!(send(&world, "resend").await.status(), 200, "{how:?} {trip}");
            let sent: Vec<MessageKey> = world.queue.sent().into_iter().map(|t| t.message).collect();
            assert_eq!(sent, [MessageKey::Invoice(2)], "{how:?} {trip}");
        }
    }
}

/// Orders with as many asks of the shop's as are taken, each the last way to one of them.
async fn asked_often(times: usize) -> World {
    let world = billed().await;
    let order = order(&world);
    for n in 0..times {
        let to = if n % 2 == 0 {
            Fulfilment::Processing
        } else {
            Fulfilment::Shipped
        };
        let description = None;
        world
            .happen(&order.key, Event::Fulfilment { to, description })
            .await;
    }
    world.network.reset();
    world
}

#[tokio::test]
async fn the_ask_after_the_hundredth_is_refused_unwritten() {
    let world = asked_often(99).await;
    assert_eq!(send(&world, "status-shipped").await.status(), 200);
    let before = order(&world).events.len();
    let trips = world.network.round_trips().len();
    for event in ["status-canceled", "resend", "resend-to-corrected-phone"] {
        let answer = send(&world, event).await;
        assert_eq!(
            code(&answer),
            (409, "too_many_changes".to_owned()),
            "{event}"
        );
    }
    assert_eq!(
        world.network.round_trips()[trips..],
        ["store.load"; 3],
        "neither the gateway nor an alias is touched"
    );
    // What it is already can be asked for as often as one likes, and a report about money is stored.
    assert_eq!(send(&world, "status-shipped").await.status(), 200);
    assert_eq!(order(&world).events.len(), before);
    let order = world.happen(&order(&world).key, paid()).await;
    assert_eq!(order.payment_status(), PaymentStatus::Captured);
}

#[tokio::test]
async fn a_bill_is_sent_again_twenty_times_at_most() {
    let world = billed().await;
    for n in 1..=21 {
        world.clock.advance(61);
        let bill = order(&world).messages.last().unwrap().key.clone();
        let event = Event::Skipped {
            message: bill,
            why: "test".to_owned(),
        };
        let key = order(&world).key;
        world.happen(&key, event).await;
        let before = order(&world).events.len();
        let answer = send(&world, "resend").await;
        if n <= 20 {
            assert_eq!(answer.status(), 200, "{n}");
        } else {
            assert_eq!(code(&answer), (409, "too_many_resends".to_owned()));
            assert_eq!(order(&world).events.len(), before);
        }
    }
}

fn named(event: &str, key: &str) -> Request {
    let mut request = events::request(FUNCTION, event);
    request
        .headers_mut()
        .insert("idempotency-key", key.parse().unwrap());
    request
}

/// The bill as it stands went out.
async fn goes_out(world: &World) {
    let order = order(world);
    let message = order.messages.last().unwrap().key.clone();
    let (form, fallback, sms) = (chatbill_domain::message::Form::Template, false, false);
    let tried = Event::Try {
        message: message.clone(),
        attempt: 1,
        form,
        fallback,
        sms,
    };
    world.happen(&order.key, tried).await;
    let sent = Event::Sent {
        message,
        attempt: 1,
        id: "wamid.9".to_owned(),
        segments: None,
    };
    world.happen(&order.key, sent).await;
}

#[tokio::test]
async fn the_same_resend_again_sends_nothing_more() {
    let world = billed().await;
    // Within a minute, without a name: the till's time-out, and the impatient cashier.
    for seconds in [0, 1, 58] {
        world.clock.advance(seconds);
        assert_eq!(send(&world, "resend").await.status(), 200);
        if seconds == 0 {
            goes_out(&world).await;
        }
    }
    assert_eq!(order(&world).resends(), 1);
    world.clock.advance(1);
    assert_eq!(send(&world, "resend").await.status(), 200);
    assert_eq!(order(&world).resends(), 2, "a minute later it is another");
    goes_out(&world).await;

    // To another number it is another, at once.
    let answer = send(&world, "resend-to-corrected-phone").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(order(&world).resends(), 3);
    goes_out(&world).await;
    assert_eq!(
        send(&world, "resend-to-corrected-phone").await.status(),
        200
    );
    assert_eq!(order(&world).resends(), 3);
}

#[tokio::test]
async fn a_named_resend_is_one_message_for_good() {
    let world = billed().await;
    for key in ["till-7", "till-7", "till-8"] {
        assert_eq!(ask(&world, named("resend", key)).await.status(), 200);
        goes_out(&world).await;
    }
    assert_eq!(order(&world).resends(), 2, "two names, two messages");
    world.clock.advance(86_400);
    assert_eq!(ask(&world, named("resend", "till-7")).await.status(), 200);
    assert_eq!(order(&world).resends(), 2);
    let other = ask(&world, named("resend-to-corrected-phone", "till-7")).await;
    assert_eq!(code(&other), (409, "idempotency_key_in_use".to_owned()));

    // Also when the first one was answered by a bill on its way, and when the order is paid meanwhile.
    let world = World::new();
    world.order(vec![started()]).await;
    assert_eq!(ask(&world, named("resend", "till-7")).await.status(), 200);
    goes_out(&world).await;
    world.clock.advance(600);
    assert_eq!(ask(&world, named("resend", "till-7")).await.status(), 200);
    assert_eq!(order(&world).resends(), 0);
    let key = order(&world).key;
    world.happen(&key, paid()).await;
    assert_eq!(ask(&world, named("resend", "till-7")).await.status(), 200);
    assert_eq!(
        code(&ask(&world, named("resend", "till-9")).await),
        (409, "illegal_transition".to_owned())
    );
    let stored = serde_json::to_string(&order(&world).events).unwrap();
    assert!(!stored.contains("till-7"), "only a hash of it is kept");
}
