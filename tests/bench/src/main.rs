//! `bench FOLDER STACK`: measures the binaries in FOLDER with the AWS services described in STACK (a `stack.json`).
//!
//! The functions run under a fake Lambda runtime, one process each. Vendors answer at once with what they were built to say. Time
//! is the function's own processor time, read from the kernel, so waiting for the network does not count.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::float_arithmetic,
    reason = "a measuring program: it prints, computes ratios, and stops at the first thing that is not as expected"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_ssm::types::ParameterType;
use axum::Json;
use axum::Router;
use axum::extract::Path as UrlPath;
use axum::routing::post;
use chatbill_domain::ports::Clock as _;
use chatbill_domain::signature::{hmac_sha256, sha256};
use chatbill_domain::time::Day;
use chatbill_runtime::system::SystemClock;
use chatbill_testkit::lambda::LambdaProcess;
use serde_json::{Value, json};

/// Starts per function.
const STARTS: usize = 15;
/// Warm requests per function; the first ones, which open connections and read settings, are not counted.
const REQUESTS: usize = 60;
const WARM_UP: usize = 10;

const TENANT: &str = "bench";
const KEY: &str = "cb_bench_0123456789abcdef0123456789abcdef";
const WEBHOOK_SECRET: &str = "bench-webhook-secret";
const FUNCTIONS: [&str; 9] = [
    "create-invoice",
    "order",
    "change",
    "pg-webhook",
    "receipt",
    "refund",
    "report",
    "send-status",
    "reconcile",
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(stack)) = (arguments.next(), arguments.next()) else {
        println!("usage: bench FOLDER STACK");
        std::process::exit(2);
    };
    let folder = PathBuf::from(folder);
    let stack: Value = serde_json::from_slice(&std::fs::read(stack).unwrap()).unwrap();
    let bench = Bench::prepare(folder, &stack).await;
    bench.cold().await;
    bench.warm().await;
}

struct Bench {
    folder: PathBuf,
    env: Vec<(String, String)>,
}

impl Bench {
    async fn prepare(folder: PathBuf, stack: &Value) -> Self {
        let peer = vendors().await;
        let text = |name: &str| stack[name].as_str().unwrap().to_owned();
        let stage = text("stage");
        let env: Vec<(String, String)> = [
            ("AWS_ENDPOINT_URL", text("aws_endpoint")),
            ("AWS_REGION", text("region")),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
            ("AWS_LAMBDA_LOG_LEVEL", "INFO".to_owned()),
            ("CHATBILL_STAGE", stage.clone()),
            ("CHATBILL_TABLE", text("table")),
            ("CHATBILL_QUEUE_URL", text("queue_url")),
            ("CHATBILL_DLQ_URL", text("dlq_url")),
            ("CHATBILL_SEND_CONCURRENCY", "10".to_owned()),
            (
                "CHATBILL_TENANTS_PATH",
                format!("/chatbill/{stage}/tenants"),
            ),
            (
                "CHATBILL_PUBLIC_URL_PARAMETER",
                format!("/chatbill/{stage}/public-url"),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        put_tenant(&env, &stage, &peer).await;
        Self { folder, env }
    }

    async fn start(&self, name: &str) -> LambdaProcess {
        let env: Vec<(&str, &str)> = self
            .env
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        LambdaProcess::start(self.folder.join(name), &env)
            .await
            .unwrap()
    }

    /// Init times, the functions in turn with the bare one so that a busy moment of the machine hits all alike.
    async fn cold(&self) {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); FUNCTIONS.len() + 1];
        for _ in 0..STARTS {
            for (index, name) in std::iter::once("hello").chain(FUNCTIONS).enumerate() {
                times[index].push(self.start(name).await.init());
            }
        }
        let medians: Vec<f64> = times
            .iter_mut()
            .map(|t| median(t).as_secs_f64() * 1e3)
            .collect();
        println!(
            "\ncold init, median of {STARTS} starts (process start to first question for an event)"
        );
        println!("  {:<16}{:>10}{:>16}", "function", "ms", "× bare function");
        println!("  {:<16}{:>10.1}{:>16}", "(bare)", medians[0], "1.00");
        for (name, ms) in FUNCTIONS.iter().zip(&medians[1..]) {
            println!("  {name:<16}{ms:>10.1}{:>16.2}", ms / medians[0]);
        }
    }

    /// Processor time of warm requests, and the most memory each function held.
    async fn warm(&self) {
        println!(
            "\nwarm requests, mean of {} after {WARM_UP} (processor time of the function's process)",
            REQUESTS - WARM_UP
        );
        println!(
            "  {:<16}{:>14}{:>18}",
            "function", "µs/request", "peak memory, MB"
        );
        let bills: Vec<Bill> = self.create().await;
        let get = |b: &Bill| api("GET", &format!("/invoices/{}", b.reference), None);
        self.measure("order", bills.iter().map(get).collect()).await;
        let ship = |b: &Bill| {
            api(
                "POST",
                &format!("/invoices/{}/status", b.reference),
                Some(json!({"status": "processing"}).to_string()),
            )
        };
        self.measure("change", bills.iter().map(ship).collect())
            .await;
        self.measure(
            "receipt",
            bills
                .iter()
                .map(|b| api("GET", &b.receipt_path, None))
                .collect(),
        )
        .await;
        self.measure(
            "send-status",
            bills.iter().map(|b| batch(&b.reference)).collect(),
        )
        .await;
        self.measure(
            "pg-webhook",
            bills.iter().map(|b| paid(&b.reference)).collect(),
        )
        .await;
        let refund = |b: &Bill| {
            api(
                "POST",
                &format!("/invoices/{}/refunds", b.reference),
                Some("{}".to_owned()),
            )
        };
        self.measure("refund", bills.iter().map(refund).collect())
            .await;
        // Every bill above, in one answer.
        let today = Day::of(SystemClock.now());
        let path = format!("/reports/day/{today}");
        self.measure("report", vec![api("GET", &path, None); REQUESTS])
            .await;
        self.measure(
            "reconcile",
            vec![json!({"source": "aws.scheduler"}); REQUESTS],
        )
        .await;
    }

    async fn create(&self) -> Vec<Bill> {
        let run = std::process::id();
        let events = (0..REQUESTS)
            .map(|n| api("POST", "/invoices", Some(bill(&format!("bench-{run}-{n}")))))
            .collect();
        self.measure("create-invoice", events)
            .await
            .into_iter()
            .map(|answer| {
                assert_eq!(answer["statusCode"], 201, "{answer}");
                let order: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
                let url = order["receipt_url"].as_str().unwrap();
                Bill {
                    reference: order["reference_id"].as_str().unwrap().to_owned(),
                    receipt_path: url[url.find("/r/").unwrap()..].to_owned(),
                }
            })
            .collect()
    }

    async fn measure(&self, name: &str, events: Vec<Value>) -> Vec<Value> {
        let process = self.start(name).await;
        let mut answers = Vec::new();
        let mut begin = Duration::ZERO;
        for (index, event) in events.iter().enumerate() {
            if index == WARM_UP {
                begin = process.usage().unwrap().cpu;
            }
            answers.push(
                process
                    .invoke(event)
                    .await
                    .unwrap_or_else(|error| panic!("{name}: {error}")),
            );
        }
        let usage = process.usage().unwrap();
        let counted = u32::try_from(events.len() - WARM_UP).unwrap();
        println!(
            "  {name:<16}{:>14}{:>18.1}",
            ((usage.cpu - begin) / counted).as_micros(),
            usage.peak_memory as f64 / 1e6
        );
        answers
    }
}

struct Bill {
    reference: String,
    receipt_path: String,
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Razorpay and Meta, answering at once.
async fn vendors() -> String {
    let link = |Json(body): Json<Value>| async move {
        Json(json!({
            "id": "plink_Bench0000001", "short_url": "https://rzp.io/i/bench", "status": "created", "amount": body["amount"],
            "amount_paid": 0, "currency": "INR", "reference_id": body["reference_id"], "expire_by": body["expire_by"],
            "notes": body["notes"], "payments": null,
        }))
    };
    let message = |UrlPath(_): UrlPath<String>| async {
        Json(json!({
            "messaging_product": "whatsapp",
            "contacts": [{"input": "919876543210", "wa_id": "919876543210"}],
            "messages": [{"id": "wamid.HBgLMTY1MDUwNzY1MjAVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA"}],
        }))
    };
    let router = Router::new()
        .route("/v1/payment_links", post(link))
        .route("/{phone_number_id}/messages", post(message));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Onboards the tenant all requests are for.
async fn put_tenant(env: &[(String, String)], stage: &str, peer: &str) {
    let value = |name: &str| env.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let document = json!({
        "tenant_id": TENANT, "display_name": "Bench Stores",
        "api_keys": [{"id": "pos", "sha256": hex::encode(sha256(KEY.as_bytes())), "scopes": ["invoices", "refunds", "reports"]}],
        "receipt_secrets": ["0123456789abcdef0123456789abcdef"],
        "channel": {
            "kind": "whatsapp", "provider": "meta", "from": "+918045210677", "base_url": peer,
            "credentials": {"phone_number_id": "1", "waba_id": "2", "access_token": "t", "app_secrets": ["s"], "verify_token": "v"},
            "templates": {"invoice": {"name": "bill", "language": "en"}, "status": {"name": "bill_status", "language": "en"}},
        },
        "payment": {
            "mode": "payment_link", "gateway": "razorpay", "base_url": peer,
            "credentials": {"key_id": "k", "key_secret": "s", "webhook_secrets": [WEBHOOK_SECRET]},
        },
    });
    let config = aws_sdk_ssm::Config::builder()
        .behavior_version(chatbill_store::behavior())
        .endpoint_url(value("AWS_ENDPOINT_URL"))
        .region(aws_sdk_ssm::config::Region::new(value("AWS_REGION")))
        .credentials_provider(aws_sdk_ssm::config::Credentials::new(
            "test", "test", None, None, "bench",
        ))
        .build();
    aws_sdk_ssm::Client::from_conf(config)
        .put_parameter()
        .name(format!("/chatbill/{stage}/tenants/{TENANT}"))
        .value(document.to_string())
        .r#type(ParameterType::SecureString)
        .overwrite(true)
        .send()
        .await
        .expect("local AWS takes the tenant's document");
}

fn bill(reference: &str) -> String {
    json!({
        "reference_id": reference,
        "customer": {"phone": "+919876543210", "name": "Pallavi"},
        "goods": "physical-goods",
        "items": [{
            "retailer_id": "SKU001", "name": "Basmati 5 kg", "quantity": 2,
            "amount": {"value": 45000, "offset": 100}, "sale_amount": {"value": 42000, "offset": 100}
        }],
        "tax": {"value": 1000, "offset": 100, "description": "GST 5%"},
        "total_amount": {"value": 85000, "offset": 100}, "currency": "INR", "expires_in": 1800,
    })
    .to_string()
}

/// An event of API Gateway, as `events/` has them.
fn event(path: &Path, change: impl FnOnce(&mut Value)) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let mut event: Value =
        serde_json::from_slice(&std::fs::read(root.join(path)).unwrap()).unwrap();
    change(&mut event);
    event
}

fn api(method: &str, path: &str, body: Option<String>) -> Value {
    event(Path::new("create-invoice/ok.json"), |e| {
        e["httpMethod"] = json!(method);
        e["requestContext"]["httpMethod"] = json!(method);
        e["path"] = json!(path);
        e["headers"]["x-api-key"] = json!(KEY);
        for name in ["x-api-key", "X-Api-Key"] {
            if !e["multiValueHeaders"][name].is_null() {
                e["multiValueHeaders"][name] = json!([KEY]);
            }
        }
        e["body"] = json!(body);
    })
}

fn paid(reference: &str) -> Value {
    let entity = json!({
        "id": format!("pay_{reference}"), "entity": "payment", "amount": 85000, "currency": "INR", "status": "captured",
        "order_id": "order_B", "method": "upi", "created_at": 1_795_305_600,
    });
    let body = json!({
        "entity": "event", "event": "payment_link.paid", "contains": ["payment_link", "payment"], "created_at": 1_795_305_600,
        "payload": {
            "payment_link": {"entity": {"id": "plink_B", "reference_id": reference, "status": "paid", "amount": 85000, "amount_paid": 85000, "currency": "INR"}},
            "payment": {"entity": entity},
        },
    })
    .to_string();
    let signature = hex::encode(hmac_sha256(WEBHOOK_SECRET.as_bytes(), body.as_bytes()));
    event(Path::new("create-invoice/ok.json"), |e| {
        e["path"] = json!(format!("/webhooks/razorpay/{TENANT}"));
        e["headers"] =
            json!({"x-razorpay-signature": signature, "content-type": "application/json"});
        e["multiValueHeaders"] =
            json!({"x-razorpay-signature": [signature], "content-type": ["application/json"]});
        e["body"] = json!(body);
    })
}

fn batch(reference: &str) -> Value {
    let body = json!({"v": 1, "tenant_id": TENANT, "reference_id": reference, "message": "invoice.1", "attempt": 0}).to_string();
    event(Path::new("send-status/invoice.json"), |e| {
        e["Records"].as_array_mut().unwrap().truncate(1);
        let record = &mut e["Records"][0];
        record["body"] = json!(body);
        record["messageId"] = json!(format!("id-{reference}"));
        record["attributes"]["MessageGroupId"] = json!(format!("{TENANT}:{reference}"));
        record["attributes"]["ApproximateReceiveCount"] = json!("1");
    })
}
