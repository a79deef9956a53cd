use std::sync::Mutex;
use std::time::Duration;

use chatbill_domain::event::Event;
use chatbill_domain::ports::StoreError;
use chatbill_domain::time::Millis;
use chatbill_testkit::aws::FakeAws;
use chatbill_testkit::builders::{bill, captured, key, tenant_json};
use chatbill_testkit::events::{self, json_body};
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{FixedClock, MemoryOrders, MemoryTenants};
use chatbill_testkit::world::{World, bill_sent};
use serde_json::json;

use super::*;

const FUNCTION: &str = "order";

fn ports_with<C>(world: &World, clock: C) -> Ports<MemoryOrders, MemoryTenants, C> {
    Ports {
        store: world.store.clone(),
        tenants: world.tenants.clone(),
        clock,
    }
}

async fn ask(world: &World, request: Request) -> Response<Body> {
    let answer = handle(&ports_with(world, world.clock.clone()), request).await;
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
        "get",
        "get-function-url",
        "get-with-wait",
        "get-with-too-long-wait",
        "get-with-key-of-another-tenant",
        "unknown",
        "no-key",
        "key-without-scope",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = billed().await;
        let response = send(&world, event).await;
        logs.assert_discreet();
        let recorded = json!({"answer": events::answer(&response), "effects": world.effects()});
        insta::assert_json_snapshot!(event, recorded);
    }
}

#[tokio::test]
async fn reading_is_one_round_trip_and_shows_everything_but_the_number() {
    let world = settled().await;
    let response = send(&world, "get").await;
    assert_eq!(world.network.round_trips(), ["store.load"]);
    let body = json_body(&response);
    assert_eq!(body["payment"]["payment_id"], "pay_1");
    assert_eq!(body["timeline"].as_array().unwrap().len(), 5);
    assert!(!body.to_string().contains("9876543210"));
}

/// A clock during whose second sleep somebody pays.
struct Eventful {
    world: World,
    sleeps: Mutex<u32>,
}

impl Clock for Eventful {
    fn now(&self) -> Millis {
        self.world.clock.now()
    }

    async fn sleep(&self, time: Duration) {
        self.world.clock.sleep(time).await;
        let second = {
            let mut sleeps = self.sleeps.lock().unwrap();
            *sleeps = sleeps.saturating_add(1);
            *sleeps == 2
        };
        if second {
            self.world.happen(&key("acme", "BM345A-12"), paid()).await;
        }
    }
}

#[tokio::test]
async fn waiting_ends_when_something_changes() {
    let world = billed().await;
    let before = world.clock.now();
    let clock = Eventful {
        world: world.clone(),
        sleeps: Mutex::new(0),
    };
    let request = events::request_with(FUNCTION, "get-with-wait", |payload| {
        payload["queryStringParameters"]["wait"] = json!("25");
        payload["multiValueQueryStringParameters"]["wait"] = json!(["25"]);
    });
    let response = handle(&ports_with(&world, clock), request).await.unwrap();
    assert_eq!(json_body(&response)["payment_status"], "captured");
    assert_eq!(world.clock.now().get() - before.get(), 1000);
}

#[tokio::test]
async fn waiting_ends_at_the_latest_when_asked_to() {
    let world = billed().await;
    let before = world.clock.now();
    let response = send(&world, "get-with-wait").await;
    assert_eq!(json_body(&response)["payment_status"], "pending");
    assert_eq!(world.clock.now().seconds_since(before), 2);
}

#[tokio::test]
async fn another_tenant_finds_nothing() {
    let world = billed().await;
    let mut request = events::request(FUNCTION, "get");
    let other = chatbill_testkit::world::OTHER_KEY.parse().unwrap();
    request.headers_mut().insert("x-api-key", other);
    let answer = ask(&world, request).await;
    assert_eq!(code(&answer), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn what_changes_an_order_is_another_function() {
    let world = billed().await;
    for event in ["status-shipped", "resend"] {
        let answer = ask(&world, events::request("change", event)).await;
        assert_eq!(code(&answer), (404, "not_found".to_owned()));
    }
    assert!(world.network.round_trips().is_empty());
}

#[tokio::test]
async fn a_corrupt_order_shows_nothing_of_its_inside() {
    let error: ApiError = StoreError::Corrupt("acme/BM345A-12".to_owned()).into();
    let response = error.into_response("request-1");
    assert_eq!(code(&response), (500, "internal_error".to_owned()));
    assert!(!json_body(&response).to_string().contains("BM345A"));
}

#[tokio::test]
async fn a_hundred_thousand_made_up_keys_cost_a_handful_of_calls() {
    let (aws, endpoint) = FakeAws::start().await;
    aws.put("/chatbill/test/tenants/acme", &tenant_json());
    let credentials = chatbill_store::Credentials::new("test", "test", None, None, "test");
    let config = chatbill_store::configured("ap-south-1".to_owned(), credentials, Some(endpoint));
    let clock = FixedClock::default();
    let ports = Ports {
        store: chatbill_store::DynamoOrders::new(&config, "orders"),
        tenants: chatbill_store::SsmTenants::new(
            &config,
            "/chatbill/test/tenants",
            true,
            |_| Ok(()),
            clock.clone(),
        ),
        clock,
    };
    for n in 0..100_000 {
        let key = match n % 2 {
            0 => format!("cb_acme_{n:032}"),
            _ => format!("cb_made-up-{n}_{n:032}"),
        };
        let request = lambda_http::http::Request::builder()
            .uri("/invoices/BM345A-12")
            .header("x-api-key", key)
            .body(Body::Empty)
            .unwrap();
        let request = request.with_raw_http_path("/invoices/BM345A-12");
        let refused = handle(&ports, request).await.unwrap_err();
        assert_eq!(refused.status(), 401, "{n}");
    }
    let calls = aws.calls();
    assert!(
        calls.keys().all(|call| call.starts_with("AmazonSSM.")),
        "{calls:?}"
    );
    assert!(calls.values().sum::<usize>() <= 6, "{calls:?}");
}
