use chatbill_domain::event::Event;
use chatbill_domain::ids::OrderKey;
use chatbill_domain::message::Fulfilment;
use chatbill_domain::payment::{
    AttemptStatus, Closed, PaymentReport, RefundReport, RefundStatus, Speed,
};
use chatbill_testkit::builders::{NOW, bill, bill_with, draft, key, report as payment, tenant_id};
use chatbill_testkit::events;
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{MemoryOrders, MemoryTenants};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{World, started};
use serde_json::Value;

use super::*;

const FUNCTION: &str = "report";

fn ports(world: &World) -> Ports<MemoryOrders, MemoryTenants> {
    Ports {
        store: world.store.clone(),
        tenants: world.tenants.clone(),
    }
}

async fn answer(world: &World, request: Request) -> Response<Body> {
    let answer = handle(&ports(world), request).await;
    answer.unwrap_or_else(|error| error.into_response("request-1"))
}

async fn day(world: &World) -> Value {
    let response = answer(world, events::request(FUNCTION, "day")).await;
    assert_eq!(response.status(), 200);
    events::json_body(&response)
}

fn refund(id: &str, payment_id: &str, paise: i64, status: RefundStatus) -> Event {
    Event::Refund {
        id: None,
        report: RefundReport {
            status,
            id: Some(id.to_owned()),
            name: None,
            payment_id: payment_id.to_owned(),
            amount: chatbill_domain::money::Paise::new(paise).unwrap(),
            speed: Some(Speed::Normal),
            bank_reference: (status == RefundStatus::Processed)
                .then(|| "=HYPERLINK(\"x\")".to_owned()),
            error: None,
            at: None,
        },
    }
}

fn captured(payment_id: &str, paise: i64) -> Event {
    Event::Payment(payment(AttemptStatus::Captured, payment_id, paise))
}

fn foreign(payment_id: &str) -> Event {
    Event::Payment(PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        currency: "USD".to_owned(),
        ..payment(AttemptStatus::Captured, payment_id, 85_000)
    })
}

fn accepted(payment_id: &str) -> Event {
    Event::Settled {
        payment_id: payment_id.to_owned(),
        accept: true,
    }
}

/// A day with a bill of every fate. All bills are of 850 rupees.
async fn a_day() -> World {
    let world = World::new();
    let canceled = Event::Fulfilment {
        to: Fulfilment::Canceled,
        description: None,
    };
    let fates: Vec<(&str, Vec<Event>)> = vec![
        ("open", vec![started()]),
        ("unready", vec![]),
        (
            "failed",
            vec![
                started(),
                Event::Payment(payment(AttemptStatus::Failed, "pay_f", 85_000)),
            ],
        ),
        ("expired", vec![started(), Event::Expired]),
        ("canceled", vec![started(), canceled.clone()]),
        (
            "closed",
            vec![
                started(),
                Event::Closed {
                    reason: Closed::Canceled,
                },
            ],
        ),
        ("paid", vec![started(), captured("pay_1", 85_000)]),
        (
            "back-in-part",
            vec![
                started(),
                captured("pay_2", 85_000),
                refund("rfnd_1", "pay_2", 10_000, RefundStatus::Processed),
                refund("rfnd_2", "pay_2", 5_000, RefundStatus::Pending),
                refund("rfnd_3", "pay_2", 1_000, RefundStatus::Failed),
            ],
        ),
        (
            "-back",
            vec![
                started(),
                captured("pay_3", 85_000),
                refund("rfnd_4", "pay_3", 85_000, RefundStatus::Processed),
            ],
        ),
        (
            "twice",
            vec![
                started(),
                captured("pay_4", 85_000),
                captured("pay_5", 85_000),
                refund("rfnd_5", "pay_5", 5_000, RefundStatus::Processed),
                refund("rfnd_6", "pay_5", 2_000, RefundStatus::Pending),
            ],
        ),
        ("late", vec![started(), canceled, captured("pay_6", 85_000)]),
        (
            "more-accepted",
            vec![started(), captured("pay_7", 90_000), accepted("pay_7")],
        ),
        (
            "less-accepted",
            vec![started(), captured("pay_8", 80_000), accepted("pay_8")],
        ),
        ("less-held", vec![started(), captured("pay_9", 80_000)]),
        ("dollars", vec![started(), foreign("pay_10")]),
        (
            "authorized",
            vec![
                started(),
                Event::Payment(payment(AttemptStatus::Authorized, "pay_11", 90_000)),
            ],
        ),
    ];
    for (name, events) in fates {
        world.order_named(name, events).await;
    }
    // Neither another day's nor another shop's bills are in the books.
    let mut yesterday = draft(bill_with(|b| b["reference_id"] = json!("yesterday")));
    yesterday.contents.created_at = NOW.plus_seconds(-24 * 3600);
    world
        .order_of(yesterday, vec![captured("pay_y", 85_000)])
        .await;
    let mut theirs = draft(bill());
    theirs.key.tenant = tenant_id("bina");
    world
        .order_of(theirs, vec![captured("pay_b", 85_000)])
        .await;
    world
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        "day",
        "day-as-csv",
        "day-accepts-csv",
        "day-function-url",
        "empty-day",
        "bad-date",
        "bad-cursor",
        "bad-format",
        "no-key",
        "key-without-scope",
        "with-key-of-another-tenant",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = a_day().await;
        let response = answer(&world, events::request(FUNCTION, event)).await;
        logs.assert_discreet();
        let recorded = json!({"answer": events::answer(&response), "round_trips": world.network.round_trips()});
        insta::assert_json_snapshot!(event, recorded);
    }
}

fn paise(sums: &Value, name: &str) -> i64 {
    let pointer = format!("/{name}/amount/value");
    sums.pointer(&pointer).unwrap().as_i64().unwrap()
}

#[tokio::test]
async fn the_books_of_a_day_balance_to_the_paisa() {
    let world = a_day().await;
    let books = day(&world).await;
    assert_eq!(books["ledger"]["balanced"], true, "{}", books["ledger"]);
    assert_eq!(books["next"], Value::Null);
    let sums = &books["ledger"]["total"];
    let count = |name: &str| sums.pointer(&format!("/{name}/count")).unwrap().clone();
    // Worked out by hand from the list of fates: sixteen bills of 85,000 paise.
    for (name, bills, amount) in [
        ("billed", 16, 16 * 85_000),
        ("paid", 6, 6 * 85_000),
        ("open", 6, 6 * 85_000),
        ("expired", 1, 85_000),
        ("canceled", 3, 3 * 85_000),
        ("captured", 6, 4 * 85_000 + 90_000 + 80_000),
        ("excess", 1, 5_000),
        ("short", 1, 5_000),
        ("refunded", 2, 95_000),
        ("refunding", 1, 5_000),
        ("other_payments/received", 3, 85_000 + 85_000 + 80_000),
        ("other_payments/refunded", 1, 5_000),
        ("other_payments/refunding", 1, 2_000),
        ("other_payments/held", 3, 78_000 + 85_000 + 80_000),
        ("other_payments/settled", 0, 0),
    ] {
        assert_eq!(
            (count(name), paise(sums, name)),
            (json!(bills), amount),
            "{name}"
        );
    }
    assert_eq!(sums["kept"]["value"], 4 * 85_000 + 90_000 + 80_000 - 95_000);
    assert_eq!(sums["other_payments"]["in_other_currencies"], 1);
    // One gateway and one channel: the group is the total.
    assert_eq!(books["ledger"]["groups"][0]["sums"], *sums);
    assert_eq!(books["orders"].as_array().unwrap().len(), 16);
}

/// Paid in full by another sum: with the customer's fee on top, with the gateway's offer taken off.
#[tokio::test]
async fn the_books_balance_with_fees_and_offers() {
    let world = World::new();
    let total = bill().total;
    let in_full = |id: &str, paise: i64| {
        Event::Payment(payment(AttemptStatus::Captured, id, paise).paying(total))
    };
    for (name, events) in [
        ("fee", vec![started(), in_full("pay_1", 86_003)]),
        (
            "offer",
            vec![
                started(),
                in_full("pay_2", 80_000),
                refund("rfnd_1", "pay_2", 80_000, RefundStatus::Processed),
            ],
        ),
        // The word that it is all came behind a held one.
        (
            "put-right",
            vec![
                started(),
                captured("pay_3", 86_003),
                in_full("pay_3", 86_003),
            ],
        ),
    ] {
        world.order_named(name, events).await;
    }
    let books = day(&world).await;
    let ledger = &books["ledger"];
    assert_eq!(ledger["balanced"], true, "{ledger}");
    let sums = &ledger["total"];
    for (name, amount) in [
        ("paid", 3 * 85_000),
        ("captured", 3 * 85_000),
        ("received", 2 * 86_003 + 80_000),
        ("fees", 2 * 1_003),
        ("offers", 5_000),
        ("excess", 0),
        ("short", 0),
        ("refunded", 80_000),
        ("other_payments/received", 0),
    ] {
        assert_eq!(paise(sums, name), amount, "{name}");
    }
    assert_eq!(sums["kept"]["value"], 2 * 85_000);
    let orders = books["orders"].as_array().unwrap();
    let offer = orders
        .iter()
        .find(|o| o["reference_id"] == "offer")
        .unwrap();
    assert_eq!(offer["payment_status"], "refunded");
    assert_eq!(
        (&offer["received"]["value"], &offer["offer"]["value"]),
        (&json!(80_000), &json!(5_000))
    );
}

#[tokio::test]
async fn nothing_in_the_books_names_a_customer() {
    let world = a_day().await;
    for event in ["day", "day-as-csv"] {
        let response = answer(&world, events::request(FUNCTION, event)).await;
        let Body::Text(text) = response.body() else {
            panic!("not a text")
        };
        let customer = &bill().customer;
        assert!(!text.contains(customer.phone.digits()), "{event}");
        assert!(!text.contains("Pallavi"), "{event}");
        assert!(!text.contains("Basmati"), "{event}");
    }
}

#[tokio::test]
async fn a_day_larger_than_one_answer_comes_in_parts_that_add_up() {
    let world = a_day().await;
    let whole = day(&world).await;
    for (bills, bytes) in [
        (1, usize::MAX),
        (3, usize::MAX),
        (usize::MAX, 1_000),
        (16, usize::MAX),
    ] {
        let room = Room { bills, bytes };
        let mut rows = Vec::new();
        let (mut billed, mut captured, mut parts) = (0, 0, 0);
        let mut after: Option<String> = None;
        loop {
            let request = events::request_with(FUNCTION, "day", |payload| {
                if let Some(after) = &after {
                    payload["queryStringParameters"] = json!({"after": after});
                    payload["multiValueQueryStringParameters"] = json!({"after": [after]});
                }
            });
            let response = within(&ports(&world), request, room).await.unwrap();
            let part = events::json_body(&response);
            let total = &part["ledger"]["total"];
            let here = part["orders"].as_array().unwrap();
            assert!(here.len() <= bills);
            assert_eq!(part["ledger"]["balanced"], true);
            assert_eq!(total["billed"]["count"], here.len());
            rows.extend(here.iter().cloned());
            billed += paise(total, "billed");
            captured += paise(total, "captured");
            parts += 1;
            match part["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
            assert!(parts < 20, "it does not end");
        }
        assert_eq!(rows, *whole["orders"].as_array().unwrap(), "{room:?}");
        assert_eq!(billed, paise(&whole["ledger"]["total"], "billed"));
        assert_eq!(captured, paise(&whole["ledger"]["total"], "captured"));
        assert!(bills == 16 || parts > 1, "{room:?}");
    }
}

#[tokio::test]
async fn a_part_in_csv_names_the_next_one() {
    let world = a_day().await;
    let room = Room {
        bills: 2,
        bytes: usize::MAX,
    };
    let request = events::request(FUNCTION, "day-as-csv");
    let response = within(&ports(&world), request, room).await.unwrap();
    let link = response.headers()["link"].to_str().unwrap().to_owned();
    let next = link
        .strip_prefix("<?format=csv&after=")
        .and_then(|rest| rest.strip_suffix(">; rel=\"next\""))
        .unwrap();
    assert!(Cursor::parse(next).is_some(), "{link}");
    let Body::Text(text) = response.body() else {
        panic!("not a text")
    };
    assert_eq!(
        text.split("\r\n").count(),
        4,
        "a header, two bills, an end: {text}"
    );
}

#[tokio::test]
async fn a_large_day_is_read_a_hundred_at_a_time() {
    let world = World::new();
    for n in 0..450 {
        world.order_named(&format!("N-{n:04}"), vec![]).await;
    }
    world.network.reset();
    let books = day(&world).await;
    assert_eq!(books["ledger"]["total"]["billed"]["count"], 450);
    assert_eq!(books["next"], Value::Null);
    let trips = world.network.round_trips();
    let of = |name: &str| trips.iter().filter(|trip| *trip == name).count();
    // Four shards of some 112 bills each: a full page and a rest.
    assert_eq!(
        (of("store.day"), of("store.load_all"), trips.len()),
        (8, 8, 16)
    );
}

#[tokio::test]
async fn what_contradicts_itself_is_named_and_logged() {
    let (logs, _guard) = Logs::capture();
    let world = World::new();
    // One payment that the gateway reports in two currencies.
    let twice = vec![foreign("pay_1"), captured("pay_1", 90_000)];
    world.order_named("two-currencies", twice).await;
    // Two words about how much a payment was are a hold, and one of them counts.
    let corrected = vec![captured("pay_5", 85_000), captured("pay_5", 90_000)];
    world.order_named("two-amounts", corrected).await;
    // A refund of a payment that this order never had.
    let strange = vec![
        captured("pay_2", 85_000),
        refund("rfnd_1", "pay_9", 100, RefundStatus::Processed),
    ];
    world.order_named("strange-refund", strange).await;
    let over = vec![
        captured("pay_3", 85_000),
        refund("rfnd_2", "pay_3", 85_001, RefundStatus::Processed),
    ];
    world.order_named("over", over).await;
    world
        .order_named("good", vec![captured("pay_4", 85_000)])
        .await;
    let books = day(&world).await;
    assert_eq!(books["ledger"]["balanced"], false);
    let mut problems: Vec<&str> = books["ledger"]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    problems.sort_unstable();
    assert_eq!(
        problems,
        [
            "over: more went back than was taken",
            "strange-refund: a refund of a payment it does not have",
            "two-currencies: pay_1 was captured and is nowhere in the order",
        ]
    );
    assert_eq!(logs.count("ledger_unbalanced"), 3);
    logs.assert_discreet();
    let good = books["orders"].as_array().unwrap().iter();
    let good = good.filter(|row| row["problem"].is_null());
    assert_eq!(good.count(), 2);
}

#[tokio::test]
async fn json_is_what_anybody_gets_who_does_not_ask_for_csv() {
    let world = World::new();
    for (accept, kind) in [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/html", "application/json"),
        ("text/csv", "text/csv; charset=utf-8; header=present"),
        (
            "TEXT/CSV;q=0.9, */*;q=0.1",
            "text/csv; charset=utf-8; header=present",
        ),
    ] {
        let request = events::request_with(FUNCTION, "day", |payload| {
            payload["headers"]["Accept"] = json!(accept);
            payload["multiValueHeaders"]["Accept"] = json!([accept]);
        });
        let response = answer(&world, request).await;
        assert_eq!(response.headers()["content-type"], kind, "{accept}");
    }
    // What is asked for in the address counts more.
    let request = events::request_with(FUNCTION, "day-accepts-csv", |payload| {
        payload["queryStringParameters"] = json!({"format": "json"});
        payload["multiValueQueryStringParameters"] = json!({"format": ["json"]});
    });
    let response = answer(&world, request).await;
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let world = World::new();
    for (path, method, status) in [
        ("/reports/day", "GET", 404),
        ("/reports/2026-11-22", "GET", 404),
        ("/reports/day/2026-11-22/x", "GET", 404),
        ("/reports/day/2026-11-22", "POST", 405),
        ("/reports/day/today", "GET", 400),
    ] {
        let request = events::request_with(FUNCTION, "day", |payload| {
            payload["path"] = json!(path);
            payload["requestContext"]["path"] = json!(format!("/prod{path}"));
            payload["httpMethod"] = json!(method);
            payload["requestContext"]["httpMethod"] = json!(method);
        });
        assert_eq!(
            answer(&world, request).await.status(),
            status,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn without_the_store_the_caller_comes_again() {
    for trip in 1..=2 {
        let world = World::new();
        world.order_named("A-1", vec![]).await;
        world.network.reset();
        world.network.break_at(trip, Break::Answer);
        let response = answer(&world, events::request(FUNCTION, "day")).await;
        assert_eq!(response.status(), 503, "round trip {trip}");
        assert!(response.headers().contains_key("retry-after"));
    }
}

#[tokio::test]
async fn a_bill_of_the_index_that_is_gone_is_missed_aloud() {
    /// An index that knows of a bill more than the table.
    struct Haunted(MemoryOrders);

    impl DayIndex for Haunted {
        async fn day(
            &self,
            tenant: &chatbill_domain::ids::TenantId,
            day: Day,
            shard: u8,
            after: Option<&chatbill_domain::ids::ReferenceId>,
            limit: u32,
        ) -> Result<chatbill_domain::ports::DayPage, chatbill_domain::ports::StoreError> {
            let mut page = self.0.day(tenant, day, shard, after, limit).await?;
            if shard == 0 && after.is_none() {
                page.keys.insert(0, key("acme", "0-ghost"));
            }
            Ok(page)
        }

        async fn load_all(
            &self,
            keys: &[OrderKey],
        ) -> Result<Vec<chatbill_domain::order::Order>, chatbill_domain::ports::StoreError>
        {
            self.0.load_all(keys).await
        }
    }

    let world = a_day().await;
    let ports = Ports {
        store: Haunted(world.store.clone()),
        tenants: world.tenants.clone(),
    };
    let response = handle(&ports, events::request(FUNCTION, "day"))
        .await
        .unwrap();
    let books = events::json_body(&response);
    let problem = "0-ghost: it is in the day's index and not in the table";
    assert_eq!(books["ledger"]["problems"], json!([problem]));
    assert_eq!(books["ledger"]["total"]["billed"]["count"], 16);
}
