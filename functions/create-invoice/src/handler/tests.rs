use chatbill_domain::http::Answer;
use chatbill_domain::order::PaymentStatus;
use chatbill_testkit::builders::{NOW, key};
use chatbill_testkit::events::{self, json_body};
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{
    FixedClock, MemoryOrders, MemoryQueue, MemorySettings, MemoryTenants, ScriptedHttp,
    SeededRandom, reply,
};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{OTHER_KEY, World, razorpay_error, razorpay_link, razorpay_links};
use serde_json::{Value, json};

use super::*;

const FUNCTION: &str = "create-invoice";
const CREATE: &str = "razorpay.create_link";
const FIND: &str = "razorpay.find_link";

type InMemory = Ports<
    MemoryOrders,
    MemoryQueue,
    MemoryTenants,
    MemorySettings,
    ScriptedHttp,
    FixedClock,
    SeededRandom,
>;

fn ports(world: &World) -> InMemory {
    Ports {
        store: world.store.clone(),
        queue: world.queue.clone(),
        tenants: world.tenants.clone(),
        settings: world.settings.clone(),
        http: world.http.clone(),
        clock: world.clock.clone(),
        random: SeededRandom::new(1),
    }
}

async fn post(world: &World, request: Request) -> Response<Body> {
    let answer = handle(&ports(world), request).await;
    answer.unwrap_or_else(|error| error.into_response("request-1"))
}

async fn send(world: &World, event: &str) -> Response<Body> {
    post(world, events::request(FUNCTION, event)).await
}

/// `ok.json` with another body.
fn bill_with(change: impl FnOnce(&mut Value)) -> Request {
    events::request_with(FUNCTION, "ok", |payload| {
        let mut bill = serde_json::from_str(payload["body"].as_str().unwrap()).unwrap();
        change(&mut bill);
        payload["body"] = json!(bill.to_string());
    })
}

/// Razorpay makes a link for the bill of `ok.json`.
fn willing(world: &World) {
    let link = razorpay_link("BM345A-12", "created");
    world.http.always(CREATE, reply(200, &link));
}

fn native(document: &mut Value) {
    document["payment"]["mode"] = json!("payment_gateway");
    document["payment"]["configuration_name"] = json!("acme-upi");
}

fn code(response: &Response<Body>) -> (u16, String) {
    let body = json_body(response);
    let code = body["code"].as_str().unwrap_or_default();
    (response.status().as_u16(), code.to_owned())
}

fn retry_after(response: &Response<Body>) -> Option<&str> {
    response.headers().get("retry-after")?.to_str().ok()
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        "ok",
        "ok-base64",
        "every-field",
        "all-faults",
        "total-mismatch",
        "duplicate-keys",
        "not-json",
        "too-short-for-the-gateway",
        "without-reference",
        "without-reference-but-idempotency-key",
        "no-key",
        "wrong-key",
        "key-without-scope",
        "key-of-another-tenant",
        "unknown-tenant",
        "function-url",
        "wrong-method",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = if event.starts_with("without-reference") {
            World::with(native)
        } else {
            World::new()
        };
        willing(&world);
        if event == "every-field" {
            let mut link = razorpay_link("BM345A-12", "created");
            link["amount"] = json!(86_500);
            world.http.reply(CREATE, 200, &link);
        }
        let response = send(&world, event).await;
        logs.assert_discreet();
        let recorded = json!({"answer": events::answer(&response), "effects": world.effects()});
        insta::assert_json_snapshot!(event, recorded);
    }
}

#[tokio::test]
async fn a_new_bill_takes_two_round_trips_and_four_with_a_link() {
    let world = World::with(native);
    assert_eq!(send(&world, "ok").await.status(), 201);
    assert_eq!(world.network.round_trips(), ["store.create", "queue.send"]);

    let world = World::new();
    willing(&world);
    assert_eq!(send(&world, "ok").await.status(), 201);
    let four = ["store.create", CREATE, "store.append", "queue.send"];
    assert_eq!(world.network.round_trips(), four);
    let writes = world.store.writes();
    let bytes: Vec<usize> = writes.iter().map(|w| w.bytes).collect();
    assert!(bytes.iter().all(|b| *b <= 1024), "hot item: {bytes:?}");
}

#[tokio::test]
async fn the_same_bill_again_is_the_same_order_and_no_second_payment() {
    let world = World::new();
    willing(&world);
    let first = send(&world, "ok").await;
    let again = send(&world, "ok-base64").await;
    assert_eq!(
        (first.status().as_u16(), again.status().as_u16()),
        (201, 200)
    );
    assert_eq!(json_body(&first), json_body(&again));
    assert_eq!(world.http.labels(), [CREATE]);
    assert_eq!(world.queue.sent().len(), 1);
    assert_eq!(world.store.orders().len(), 1);
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_order_whatever_the_tenant_next_door_sends() {
    let world = World::with(native);
    let event = "without-reference-but-idempotency-key";
    let first = send(&world, event).await;
    let again = send(&world, event).await;
    assert_eq!(
        (first.status().as_u16(), again.status().as_u16()),
        (201, 200)
    );
    assert_eq!(
        json_body(&first)["reference_id"],
        json_body(&again)["reference_id"]
    );
    let other = events::request_with(FUNCTION, event, |payload| {
        payload["headers"]["Idempotency-Key"] = json!("till-4/2026-11-22/0013");
        payload["multiValueHeaders"]["Idempotency-Key"] = json!(["till-4/2026-11-22/0013"]);
    });
    let other = post(&world, other).await;
    assert_ne!(
        json_body(&first)["reference_id"],
        json_body(&other)["reference_id"]
    );
}

#[tokio::test]
async fn another_bill_of_the_same_number_is_a_conflict() {
    let world = World::new();
    willing(&world);
    send(&world, "ok").await;
    let other = post(
        &world,
        bill_with(|bill| bill["customer"]["name"] = json!("Rahul")),
    )
    .await;
    assert_eq!(code(&other), (409, "reference_id_conflict".to_owned()));
    assert_eq!(world.http.labels(), [CREATE]);
    assert_eq!(world.queue.sent().len(), 1);
}

#[tokio::test]
async fn two_tenants_use_the_same_number_and_never_meet() {
    let world = World::new();
    willing(&world);
    let mine = send(&world, "ok").await;
    let theirs = send(&world, "key-of-another-tenant").await;
    assert_eq!(
        (mine.status().as_u16(), theirs.status().as_u16()),
        (201, 201)
    );
    assert_ne!(
        json_body(&mine)["receipt_url"],
        json_body(&theirs)["receipt_url"]
    );
    for tenant in ["acme", "bina"] {
        let order = world.store.order(&key(tenant, "BM345A-12")).unwrap();
        assert_eq!(order.events.len(), 2, "{tenant}");
    }
    // A conflict of one is none of the other.
    let other = events::request_with(FUNCTION, "ok", |payload| {
        payload["headers"]["x-api-key"] = json!(OTHER_KEY);
        payload["multiValueHeaders"]["x-api-key"] = json!([OTHER_KEY]);
    });
    assert_eq!(post(&world, other).await.status(), 200);
}

#[tokio::test]
async fn a_lost_answer_of_the_gateway_is_looked_up_before_anything_is_created_again() {
    let link = razorpay_link("BM345A-12", "created");
    // The link was made.
    let world = World::new();
    world
        .http
        .answer(CREATE, Answer::Lost("time-out".to_owned()));
    world
        .http
        .reply(FIND, 200, &razorpay_links(std::slice::from_ref(&link)));
    let response = send(&world, "ok").await;
    assert_eq!(response.status(), 201);
    assert_eq!(json_body(&response)["payment"]["link"], link["short_url"]);
    assert_eq!(world.http.labels(), [CREATE, FIND]);

    // It was not.
    let world = World::new();
    world
        .http
        .answer(CREATE, Answer::Lost("time-out".to_owned()));
    world.http.reply(FIND, 200, &razorpay_links(&[]));
    world.http.reply(CREATE, 200, &link);
    assert_eq!(send(&world, "ok").await.status(), 201);
    assert_eq!(world.http.labels(), [CREATE, FIND, CREATE]);

    // Nobody can say: the till is told to come again, and then the first question is what became of it.
    let world = World::new();
    world
        .http
        .answer(CREATE, Answer::Lost("time-out".to_owned()));
    world.http.answer(FIND, Answer::Lost("time-out".to_owned()));
    assert_eq!(
        code(&send(&world, "ok").await),
        (503, "gateway_unavailable".to_owned())
    );
    world
        .http
        .reply(FIND, 200, &razorpay_links(std::slice::from_ref(&link)));
    assert_eq!(send(&world, "ok").await.status(), 200);
    assert_eq!(world.http.labels(), [CREATE, FIND, FIND]);
    assert_eq!(world.http.left_over(), 0);
}

#[tokio::test]
async fn with_the_gateway_down_the_bill_is_kept_and_resumed_by_the_same_bill() {
    let (logs, _guard) = Logs::capture();
    let world = World::new();
    world
        .http
        .answer(CREATE, Answer::NotSent("connection refused".to_owned()));
    let response = send(&world, "ok").await;
    assert_eq!(code(&response), (503, "gateway_unavailable".to_owned()));
    assert_eq!(retry_after(&response), Some("5"));
    assert!(
        !json_body(&response)
            .to_string()
            .contains("connection refused")
    );
    assert!(world.queue.sent().is_empty());

    world.clock.advance(60);
    world.http.reply(FIND, 200, &razorpay_links(&[]));
    willing(&world);
    let response = send(&world, "ok").await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        json_body(&response)["payment"]["link"],
        "https://rzp.io/rzp/QK00l1"
    );
    assert_eq!(world.queue.sent().len(), 1);
    logs.assert_discreet();
}

#[tokio::test]
async fn a_refusal_of_the_gateway_is_told_and_tried_anew_by_the_same_bill() {
    let world = World::new();
    let refusal = razorpay_error("amount exceeds maximum amount allowed.");
    world.http.reply(CREATE, 400, &refusal);
    let response = send(&world, "ok").await;
    assert_eq!(code(&response), (422, "provider_refused".to_owned()));
    assert!(
        json_body(&response)["detail"]
            .as_str()
            .unwrap()
            .contains("maximum amount")
    );
    assert!(world.queue.sent().is_empty());
    world.http.reply(FIND, 200, &razorpay_links(&[]));
    willing(&world);
    assert_eq!(send(&world, "ok").await.status(), 200);
    assert_eq!(world.queue.sent().len(), 1);
}

#[tokio::test]
async fn with_the_queue_down_the_bill_is_kept_and_queued_by_the_same_bill() {
    let world = World::new();
    willing(&world);
    world.network.break_at(3, Break::Request);
    let response = send(&world, "ok").await;
    assert_eq!(code(&response), (503, "queue_unavailable".to_owned()));
    assert_eq!(retry_after(&response), Some("5"));
    assert!(world.queue.sent().is_empty());
    assert_eq!(send(&world, "ok").await.status(), 200);
    assert_eq!(world.queue.sent().len(), 1);
    assert_eq!(world.http.labels(), [CREATE]);
}

#[tokio::test]
async fn wherever_it_breaks_the_same_bill_again_ends_in_one_order_one_link_and_one_message() {
    for how in [Break::Request, Break::Answer] {
        for trip in 0..4 {
            let world = World::new();
            let link = razorpay_link("BM345A-12", "created");
            world.network.break_at(trip, how);
            willing(&world);
            world.http.always(FIND, reply(200, &razorpay_links(&[])));
            let first = send(&world, "ok").await;
            let made = world.http.labels().contains(&CREATE);
            if made {
                world
                    .http
                    .always(FIND, reply(200, &razorpay_links(&[link])));
                world.http.always(
                    CREATE,
                    reply(
                        400,
                        &razorpay_error("payment link with given reference_id already exists"),
                    ),
                );
            }
            if !first.status().is_success() {
                assert_eq!(first.status(), 503, "{how:?} {trip}");
                assert!(retry_after(&first).is_some());
                assert_eq!(
                    send(&world, "ok").await.status(),
                    if how == Break::Request && trip == 0 {
                        201
                    } else {
                        200
                    }
                );
            }
            let order = world.store.order(&key("acme", "BM345A-12")).unwrap();
            assert!(order.is_ready() && order.payment_status() == PaymentStatus::Pending);
            assert_eq!(world.queue.sent().len(), 1, "{how:?} {trip}");
        }
    }
}

#[tokio::test]
async fn with_the_store_or_the_settings_down_nothing_is_promised() {
    let world = World::new();
    world.network.break_at(0, Break::Request);
    assert_eq!(
        code(&send(&world, "ok").await),
        (503, "store_unavailable".to_owned())
    );
    let mut world = World::new();
    world.settings.public_url = None;
    assert_eq!(
        code(&send(&world, "ok").await),
        (503, "settings_unavailable".to_owned())
    );
    assert!(world.network.round_trips().is_empty());
    world.tenants.spoil(
        &chatbill_domain::ids::TenantId::parse("acme").unwrap(),
        "the access_token is test-access-token",
    );
    let response = send(&world, "ok").await;
    assert_eq!(code(&response), (500, "internal_error".to_owned()));
    events::assert_discreet(&response);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let world = World::new();
    let long = "x".repeat(api::LARGEST_BODY + 1);
    let request = events::request_with(FUNCTION, "ok", |payload| payload["body"] = json!(long));
    assert_eq!(
        code(&post(&world, request).await),
        (413, "body_too_large".to_owned())
    );
    assert!(world.network.round_trips().is_empty());
}

#[tokio::test]
async fn a_doubled_or_strange_header_is_refused() {
    let world = World::new();
    let mut doubled = events::request(FUNCTION, "ok");
    let api_key = doubled.headers()["x-api-key"].clone();
    doubled.headers_mut().append("x-api-key", api_key);
    assert_eq!(
        code(&post(&world, doubled).await),
        (401, "unauthorized".to_owned())
    );
    let long = events::request_with(FUNCTION, "ok", |payload| {
        payload["multiValueHeaders"]["Idempotency-Key"] = json!(["k".repeat(256)]);
    });
    assert_eq!(
        code(&post(&world, long).await),
        (400, "invalid_idempotency_key".to_owned())
    );
}

#[tokio::test]
async fn a_webhook_that_came_first_pays_nothing_by_itself() {
    use chatbill_domain::event::{Event, Once, Recorded};
    let world = World::new();
    willing(&world);
    let order = key("acme", "BM345A-12");
    let hint = Event::Hint {
        payment_id: "pay_2".into(),
    };
    let event = Recorded::new(NOW.plus_seconds(-5), "razorpay", hint);
    world
        .store
        .park(&order, &Once::hint("pay_2"), &[event], NOW)
        .await
        .unwrap();
    let response = send(&world, "ok").await;
    assert_eq!(response.status(), 201);
    assert_eq!(json_body(&response)["payment_status"], "pending");
    assert_eq!(world.http.labels(), ["razorpay.create_link"]);
    // The new link is asked soon.
    let order = world.store.load(&order).await.unwrap().unwrap();
    assert!(
        order.due.unwrap() <= NOW.plus_seconds(60),
        "{:?}",
        order.due
    );
}
