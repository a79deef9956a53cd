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
