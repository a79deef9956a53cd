//! Faults, webhooks on their way, and the records of both.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests; clippy.toml reaches only functions marked #[test]"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Bench, gateway, interactive, order};

const LINKS: &str = "/razorpay/v1/payment_links";
/// `rzp_test_shop:key_secret_demo`.
const KEY: &str = "Basic cnpwX3Rlc3Rfc2hvcDprZXlfc2VjcmV0X2RlbW8=";

/// Creates a link over a connection that may break.
async fn create(bench: &Bench, reference: &str) -> Result<(u16, String), reqwest::Error> {
    let body = json!({"amount": 50000, "reference_id": reference}).to_string();
    bench
        .raw("POST", LINKS, &[("authorization", KEY)], Some(body))
        .await
}

async fn exists(bench: &Bench, reference: &str) -> bool {
    let (_, found) = bench
        .razorpay(
            "GET",
            &format!("/v1/payment_links?reference_id={reference}"),
            None,
        )
        .await;
    found["payment_links"] != json!([])
}

#[tokio::test]
async fn a_status_fault_happens_before_or_after_and_so_often() {
    let bench = Bench::start().await;
    let fault = |kind: &str| {
        json!({"vendor": "razorpay", "operation": "create_payment_link", "kind": kind,
        "status": 503, "headers": {"Retry-After": "2"}, "skip": 1, "times": 2})
    };
    bench.control("faults", fault("status")).await;
    for (reference, wanted) in [("A", 200), ("B", 503), ("C", 503), ("D", 200)] {
        assert_eq!(
            create(&bench, reference).await.unwrap().0,
            wanted,
            "{reference}"
        );
        assert_eq!(exists(&bench, reference).await, wanted == 200);
    }
    bench.control("faults", json!({"operation": "create_payment_link", "kind": "status_after", "status": 500, "body": "<html>"})).await;
    assert_eq!(
        create(&bench, "E").await.unwrap(),
        (500, "<html>".to_owned())
    );
    assert!(exists(&bench, "E").await);
    let received = bench.look("received?reference_id=B").await;
    assert_eq!(received["received"][0]["fault"], "status");
    assert_eq!(received["received"][0]["status"], 503);
}

#[tokio::test]
async fn a_vendors_own_error_is_made_from_its_code() {
    let bench = Bench::start().await;
    bench.control("faults", json!({"vendor": "meta", "operation": "send_message", "kind": "status", "status": 429, "code": 130_429})).await;
    let (http, answer) = bench.send(&json!({})).await;
    assert_eq!((http, &answer["error"]["code"]), (429, &json!(130_429)));
    assert_eq!(answer["error"]["message"], "(#130429) Rate limit hit");

    bench.open_window().await;
    bench
        .control(
            "faults",
            json!({"vendor": "meta", "kind": "async_error", "code": 131_053}),
        )
        .await;
    assert_eq!(bench.send(&interactive(order("A", gateway()))).await.0, 200);
    bench.settle().await;
    assert_eq!(
        bench.receiver.statuses().pop().unwrap()["errors"][0]["code"],
        131_053
    );
}

#[tokio::test]
async fn connections_are_cut_before_or_after() {
    let bench = Bench::start().await;
    for (kind, happened) in [
        ("reset", false),
        ("reset_after", true),
        ("timeout_before", false),
        ("timeout_after", true),
    ] {
        bench
            .control(
                "faults",
                json!({"operation": "create_payment_link", "kind": kind, "delay_ms": 50}),
            )
            .await;
        let began = Instant::now();
        assert!(create(&bench, kind).await.is_err(), "{kind}");
        if kind.starts_with("timeout") {
            assert!(began.elapsed() >= Duration::from_millis(50), "{kind}");
        }
        assert_eq!(exists(&bench, kind).await, happened, "{kind}");
        let received = bench
            .look(&format!(
                "received?operation=create_payment_link&reference_id={kind}"
            ))
            .await;
        assert_eq!(received["received"][0]["status"], Value::Null);
    }
}

#[tokio::test]
async fn a_delayed_call_happens_though_nobody_waits() {
    let bench = Bench::start().await;
    bench
        .control(
            "faults",
            json!({"operation": "create_payment_link", "kind": "delay", "delay_ms": 1000}),
        )
        .await;
    let impatient = tokio::time::timeout(Duration::from_millis(20), create(&bench, "A")).await;
    assert!(impatient.is_err());
    assert!(!exists(&bench, "A").await);
    for _ in 0..100 {
        if exists(&bench, "A").await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the call never happened");
}

#[tokio::test]
async fn a_webhook_is_retried_with_the_same_bytes_and_id() {
    let bench = Bench::start().await;
    bench
        .register(json!({"events": ["payment_link.cancelled"]}), json!({}))
        .await;
    let link = bench.link("A").await;
    bench.receiver.answer_with(&[500, 302, 404]);
    let path = format!("/v1/payment_links/{}/cancel", link["id"].as_str().unwrap());
    bench.razorpay("POST", &path, None).await;
    bench.settle().await;
    let got = bench.receiver.got();
    assert_eq!(got.len(), 4);
    assert!(got.iter().all(|one| one.raw == got[0].raw
        && one.header("x-razorpay-event-id") == got[0].header("x-razorpay-event-id")));
    let hooks = bench
        .look("webhooks?event=payment_link&reference_id=A")
        .await;
    let hook = &hooks["webhooks"][0];
    assert_eq!(hook["state"], "delivered");
    let statuses: Vec<i64> = hook["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["status"].as_i64().unwrap())
        .collect();
    assert_eq!(statuses, [500, 302, 404, 200]);

    let again = bench
        .control(&format!("webhooks/{}/redeliver", hook["id"]), json!({}))
        .await;
    assert_eq!(again["status"], 200);
    assert_eq!(bench.receiver.got().len(), 5);
}

#[tokio::test]
async fn a_webhook_is_given_up_in_the_end() {
    let bench = Bench::start().await;
    bench
        .control("settings", json!({"retry_attempts": 3}))
        .await;
    bench
        .register(json!({"webhook_url": "http://127.0.0.1:9"}), json!({}))
        .await;
    let link = bench.link("A").await;
    bench
        .control("customer/fail", json!({"link": link["id"]}))
        .await;
    bench.settle().await;
    let hooks = bench.look("webhooks?state=given_up").await;
    assert_eq!(
        hooks["webhooks"][0]["attempts"].as_array().unwrap().len(),
        3
    );
    assert!(hooks["webhooks"][0]["attempts"][0]["error"].is_string());
}

#[tokio::test]
async fn webhooks_are_dropped_and_doubled() {
    let bench = Bench::start().await;
    bench
        .control(
            "faults",
            json!({"vendor": "razorpay", "operation": "payment_link.paid", "kind": "drop_webhook"}),
        )
        .await;
    bench
        .control(
            "faults",
            json!({"vendor": "razorpay", "operation": "order.paid", "kind": "duplicate_webhook"}),
        )
        .await;
    let link = bench.link("A").await;
    bench
        .control("customer/pay", json!({"link": link["id"]}))
        .await;
    bench.settle().await;
    assert_eq!(
        bench.receiver.events(),
        [
            "payment.authorized",
            "payment.captured",
            "order.paid",
            "order.paid"
        ]
    );
    let got = bench.receiver.got();
    assert_eq!(
        got[2].header("x-razorpay-event-id"),
        got[3].header("x-razorpay-event-id")
    );
    assert_eq!(bench.look("webhooks?state=dropped").await["count"], 1);
}

#[tokio::test]
async fn held_webhooks_are_released_in_any_order() {
    let bench = Bench::start().await;
    bench
        .control(
            "faults",
            json!({"vendor": "razorpay", "kind": "hold_webhooks", "times": null}),
        )
        .await;
    let link = bench.link("A").await;
    bench
        .control("customer/pay", json!({"link": link["id"]}))
        .await;
    bench.settle().await;
    assert_eq!(bench.receiver.got().len(), 0);
    let held = bench.look("webhooks?state=held").await;
    let ids: Vec<&Value> = held["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hook| &hook["id"])
        .collect();
    assert_eq!(ids.len(), 4);
    bench
        .control("webhooks/release", json!({"order": [ids[3], ids[1]]}))
        .await;
    bench.settle().await;
    assert_eq!(
        bench.receiver.events(),
        ["payment_link.paid", "payment.captured"]
    );
    bench.control("webhooks/release", json!({})).await;
    bench.settle().await;
    assert_eq!(
        bench.receiver.events()[2..],
        ["payment.authorized", "order.paid"]
    );
    // Holding has ended.
    let link = bench.link("B").await;
    bench
        .control("customer/fail", json!({"link": link["id"]}))
        .await;
    bench.settle().await;
    assert_eq!(bench.receiver.got().len(), 5);
}

#[tokio::test]
async fn forged_webhooks_go_out_once() {
    let bench = Bench::start().await;
    bench.receiver.answer_with(&[401, 401]);
    let wrong = bench
        .control("webhooks/send", json!({"vendor": "razorpay", "body": {"event": "payment_link.paid"}, "signature": "00"}))
        .await;
    assert_eq!(wrong["status"], 401);
    bench
        .control(
            "webhooks/send",
            json!({"vendor": "meta", "raw_body": "{", "unsigned": true}),
        )
        .await;
    bench.settle().await;
    let got = bench.receiver.got();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].header("x-razorpay-signature"), "00");
    assert_eq!(got[1].header("x-hub-signature-256"), "");
    assert_eq!(got[1].raw, b"{");
}

#[tokio::test]
async fn the_control_api_refuses_what_it_does_not_know() {
    let bench = Bench::start().await;
    for (path, body) in [
        ("faults", json!({"kind": "explode"})),
        (
            "faults",
            json!({"kind": "status", "operation": "create_link"}),
        ),
        (
            "faults",
            json!({"kind": "drop_webhook", "operation": "create_payment_link"}),
        ),
        ("faults", json!({"kind": "status", "vendor": "stripe"})),
        (
            "accounts",
            json!({"razorpay": {"key_id": "a", "secret": "b"}}),
        ),
        ("accounts", json!({"stripe": {}})),
        ("settings", json!({"retry_delay": 1})),
        ("clock", json!({"advance": 1})),
        ("customer/pay", json!({})),
        ("nothing", json!({})),
    ] {
        let (status, _) = bench.control_refused(path, body).await;
        assert!((400..500).contains(&status), "{path}");
    }
}

#[tokio::test]
async fn a_reset_forgets_everything() {
    let bench = Bench::start().await;
    bench.link("A").await;
    bench.control("reset", json!({})).await;
    assert_eq!(bench.look("received").await["count"], 0);
    assert_eq!(create(&bench, "A").await.unwrap().0, 401);
    bench.register(json!({}), json!({})).await;
    assert_eq!(create(&bench, "A").await.unwrap().0, 200);
}

#[tokio::test]
async fn the_readme_names_every_operation_and_event() {
    let bench = Bench::start().await;
    let overview = bench.look("").await;
    let readme = include_str!("../README.md");
    for vendor in overview["vendors"].as_object().unwrap().values() {
        for list in ["operations", "events"] {
            for name in vendor[list].as_array().unwrap() {
                let name = name.as_str().unwrap();
                assert!(readme.contains(&format!("`{name}`")), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn the_program_says_where_it_listens() {
    use std::io::{BufRead, BufReader};
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_sandbox"))
        .args(["--port", "0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    let address = said["sandbox_url"]
        .as_str()
        .unwrap()
        .strip_prefix("http://")
        .unwrap();
    assert!(address.starts_with("127.0.0.1:"));
    let answers = tokio::net::TcpStream::connect(address).await.is_ok();
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(answers);
}
