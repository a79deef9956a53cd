//! The BillDesk connector against the sandbox's BillDesk: the two share no code, least of all for tokens.

use chatbill_domain::connector::{Gateway, Signal, Trust};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, converse};
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Found, LookupRequest, PaymentMode, PaymentRequest, RefundReport,
    RefundRequest, RefundStatus, Started,
};
use chatbill_domain::ports::HttpSend;
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::builders::{lookup_request, payment_request, refund_request, tenant_json};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Speaks HTTP and nothing else; the sandbox runs on other threads.
struct Wire;

impl HttpSend for Wire {
    async fn send(&self, call: &HttpCall) -> Answer {
        let (kind, body) = call.body.clone().unwrap();
        let mut headers = vec![("content-type", kind)];
        headers.extend(call.headers.clone());
        let (method, url) = (call.method.as_str(), call.url.clone());
        let sent = tokio::task::spawn_blocking(move || exchange(method, &url, &headers, &body));
        match sent.await.unwrap() {
            Some((status, body)) => Answer::Reply(HttpReply {
                status,
                retry_after: None,
                body,
            }),
            None => Answer::Lost("the connection was cut".into()),
        }
    }
}

fn exchange(
    method: &str,
    url: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> Option<(u16, Vec<u8>)> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .build();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let agent = ureq::Agent::new_with_config(config);
    let mut response = agent.run(request.body(body).unwrap()).ok()?;
    let status = response.status().as_u16();
    Some((status, response.body_mut().read_to_vec().unwrap()))
}

struct Bench {
    sandbox: sandbox::Sandbox,
    gateway: Box<dyn Gateway>,
    mode: PaymentMode,
}

impl Bench {
    async fn start(mode: PaymentMode, security: &str) -> Self {
        let sandbox = sandbox::Sandbox::start().await.unwrap();
        let mut credentials = json!({
            "merchant_id": "BDMERCID", "client_id": "bdmerc1", "security": security, "signing_key": "a signing key",
        });
        if security == "jose" {
            credentials["signing_key_id"] = json!("s1");
            credentials["encryption_key"] = json!("an encryption key, 32 characters");
            credentials["encryption_key_id"] = json!("e1");
        }
        let mut account = credentials.clone();
        account["vpa"] = json!("acme@hdfcbank");
        // Nobody listens there: what is sent is read from the sandbox's record.
        account["webhook_url"] = json!("http://127.0.0.1:1/webhooks/billdesk/acme");
        credentials["vpa"] = json!("acme@hdfcbank");
        credentials["merchant_category"] = json!("5411");
        credentials["merchant_name"] = json!("Acme & Co");
        let mut document = tenant_json();
        document["payment"] = json!({
            "mode": mode.as_str(), "gateway": "billdesk", "base_url": format!("{}/billdesk", sandbox.url()),
            "credentials": credentials,
        });
        let tenant = Tenant::read(&document.to_string(), true).unwrap();
        let bench = Self {
            sandbox,
            gateway: chatbill_gateways::open(&tenant).unwrap(),
            mode,
        };
        bench
            .control("accounts", json!({ "billdesk": account }))
            .await;
        bench
    }

    async fn http(
        &self,
        method: &'static str,
        path: &str,
        kind: &str,
        body: String,
    ) -> (u16, String) {
        let url = format!("{}{path}", self.sandbox.url());
        let headers = [("content-type", kind.to_owned())];
        let answer =
            tokio::task::spawn_blocking(move || exchange(method, &url, &headers, body.as_bytes()));
        let (status, body) = answer.await.unwrap().unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let path = format!("/_control/{path}");
        let (status, text) = self
            .http("POST", &path, "application/json", body.to_string())
            .await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn fault(&self, operation: &str, kind: &str) {
        let fault =
            json!({"vendor": "billdesk", "operation": operation, "kind": kind, "status": 503});
        self.control("faults", fault).await;
    }

    fn request(&self) -> PaymentRequest {
        let request = payment_request(self.mode);
        PaymentRequest {
            order_id: self.gateway.order_id(&request.reference).to_string(),
            now: now(),
            // The sandbox posts there what it has to say of an intent.
            webhook_url: "http://127.0.0.1:1/webhooks/billdesk/acme".into(),
            ..request
        }
    }

    async fn begin(&self) -> Result<Started, CallError> {
        let request = self.request();
        converse(&Wire, |answers| self.gateway.start(&request, answers)).await
    }

    fn asked(&self, started: Option<&Started>) -> LookupRequest {
        let id = started.map(|s| s.id.as_str());
        LookupRequest {
            order_id: self.request().order_id,
            now: now(),
            ..lookup_request(self.mode, id)
        }
    }

    async fn found(&self, started: &Started) -> Found {
        let asked = self.asked(Some(started));
        let found = converse(&Wire, |answers| self.gateway.lookup(&asked, answers));
        found.await.unwrap()
    }

    /// What the last webhook says.
    async fn heard(&self) -> Signal {
        let (_, text) = self
            .http(
                "GET",
                "/_control/webhooks?vendor=billdesk",
                "",
                String::new(),
            )
            .await;
        let all: Value = serde_json::from_str(&text).unwrap();
        let last = all["webhooks"].as_array().unwrap().last().unwrap();
        self.read(last["raw_body"].as_str().unwrap())
    }

    fn read(&self, body: &str) -> Signal {
        let verified = self.gateway.verify(RawWebhook {
            headers: vec![],
            query: vec![],
            body: body.into(),
        });
        self.gateway.read(&verified.unwrap()).unwrap().remove(0)
    }

    fn refund_request(&self, paid: &Found, token: &str) -> RefundRequest {
        let payment = &paid.reports[0];
        RefundRequest {
            order_id: self.request().order_id,
            captured: payment.amount,
            // An intent does not say when it was paid; then it is when we hear of it.
            captured_at: payment.at.unwrap_or_else(now),
            token: token.into(),
            now: now(),
            ..refund_request(self.mode, &payment.payment_id)
        }
    }

    async fn refund(&self, request: &RefundRequest) -> Result<RefundReport, CallError> {
        converse(&Wire, |answers| self.gateway.refund(request, answers)).await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox has the real time, and refuses a trace id that comes twice"
)]
fn now() -> Millis {
    let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    Millis::new(i64::try_from(nanos).unwrap())
}

fn proven(signal: &Signal) -> (&str, AttemptStatus) {
    match signal {
        Signal::Payment {
            reference,
            report,
            trust: Trust::Proven,
        } => (reference.as_str(), report.status),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_is_paid_through_our_page_and_refunded() {
    for security in ["hmac", "jose"] {
        let bench = Bench::start(PaymentMode::PaymentLink, security).await;
        let started = bench.begin().await.unwrap();
        assert_eq!(started.link, bench.request().pay_url);
        assert_eq!(bench.found(&started).await, Found::default());

        let form = bench.gateway.pay_form(&bench.request(), &started).unwrap();
        let posted: Vec<String> = form
            .fields
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        let page = form.action.strip_prefix(&bench.sandbox.url()).unwrap();
        let kind = "application/x-www-form-urlencoded";
        let (status, text) = bench.http("POST", page, kind, posted.join("&")).await;
        assert_eq!((status, text.contains("Rs. 850.00")), (200, true), "{text}");
        let (_, text) = bench
            .http(
                "POST",
                &page.replace("embeddedsdk", "pay"),
                kind,
                posted.join("&"),
            )
            .await;

        // The browser brings the same token as the webhook.
        let token = text
            .split("name=\"transaction_response\" value=\"")
            .nth(1)
            .unwrap();
        let brought = bench.read(&format!(
            "terminal_state=Y&transaction_response={}",
            token.split('"').next().unwrap()
        ));
        assert_eq!(brought, bench.heard().await);
        let reference = bench.request().reference;
        assert_eq!(
            proven(&brought),
            (reference.as_str(), AttemptStatus::Captured)
        );
        let paid = bench.found(&started).await;
        assert_eq!(
            (paid.reports.len(), paid.reports[0].status),
            (1, AttemptStatus::Captured)
        );
        assert_eq!(paid.reports[0].amount, bench.request().amount);
        let asked = bench.asked(Some(&started));
        let canceled = converse(&Wire, |answers| bench.gateway.cancel(&asked, answers)).await;
        assert_eq!(canceled, Ok(Canceled::AlreadyPaid));

        let request = bench.refund_request(&paid, "refundtoken1");
        let refunded = bench.refund(&request).await.unwrap();
        assert_eq!(
            (refunded.status, refunded.amount),
            (RefundStatus::Processed, request.amount)
        );
        // Asked for again, it is the same refund.
        let again = RefundRequest {
            now: now(),
            ..request.clone()
        };
        assert_eq!(bench.refund(&again).await.unwrap(), refunded);
        let looked = converse(&Wire, |answers| {
            bench.gateway.lookup_refund(&request, answers)
        })
        .await;
        assert_eq!(looked, Ok(Some(refunded.clone())));
        assert_eq!(bench.found(&started).await.refunds, [refunded]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_is_paid_in_whatsapp() {
    for security in ["hmac", "jose"] {
        let bench = Bench::start(PaymentMode::UpiIntent, security).await;
        let started = bench.begin().await.unwrap();
        assert!(
            started.link.starts_with("upi://pay?pa=acme@hdfcbank"),
            "{}",
            started.link
        );
        assert_eq!(
            bench.found(&started).await.reports[0].status,
            AttemptStatus::Pending
        );
        let asked = bench.asked(Some(&started));
        let canceled = converse(&Wire, |answers| bench.gateway.cancel(&asked, answers)).await;
        assert!(
            matches!(canceled, Err(CallError::Unsupported(_))),
            "{canceled:?}"
        );
        bench
            .control("customer/pay", json!({"link": started.link}))
            .await;
        let heard = bench.heard().await;
        let reference = bench.request().reference;
        assert_eq!(
            proven(&heard),
            (reference.as_str(), AttemptStatus::Captured)
        );
        assert_eq!(
            bench.found(&started).await.reports[0].payment_id,
            started.id
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_make_nobody_pay_twice() {
    for (mode, operation) in [
        (PaymentMode::PaymentLink, "create_order"),
        (PaymentMode::UpiIntent, "create_transaction"),
    ] {
        for kind in ["reset_after", "status_after", "reset", "status"] {
            let bench = Bench::start(mode, "jose").await;
            bench.fault(operation, kind).await;
            let started = bench.begin().await.unwrap();
            bench
                .control(
                    "customer/pay",
                    json!({"vendor": "billdesk", "reference_id": bench.request().reference}),
                )
                .await;
            let reference = bench.request().reference;
            assert_eq!(
                proven(&bench.heard().await),
                (reference.as_str(), AttemptStatus::Captured),
                "{kind}"
            );
            let paid = bench.found(&started).await;
            assert_eq!(paid.reports[0].status, AttemptStatus::Captured, "{kind}");

            // The same for its refund.
            bench.fault("create_refund", kind).await;
            let request = bench.refund_request(&paid, "refundtoken1");
            let first = bench.refund(&request).await;
            match kind {
                "reset_after" | "status_after" => assert!(first.is_ok(), "{kind}: {first:?}"),
                _ => assert!(
                    matches!(first, Err(CallError::Unknown { .. })),
                    "{kind}: {first:?}"
                ),
            }
            let again = RefundRequest {
                now: now(),
                ..request
            };
            let second = bench.refund(&again).await.unwrap();
            assert_eq!(bench.found(&started).await.refunds, [second], "{kind}");
        }
    }
}

/// Where BillDesk does not show an intent again, another one is made; the customer never sees the first.
#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_is_not_shown_again_is_replaced() {
    let bench = Bench::start(PaymentMode::UpiIntent, "hmac").await;
    bench
        .control(
            "accounts",
            json!({"billdesk": {"client_id": "bdmerc1", "shows_intents": false}}),
        )
        .await;
    bench.fault("create_transaction", "reset_after").await;
    let started = bench.begin().await.unwrap();
    bench
        .control("customer/pay", json!({"link": started.link}))
        .await;
    let reference = bench.request().reference;
    assert_eq!(
        proven(&bench.heard().await),
        (reference.as_str(), AttemptStatus::Captured)
    );
}
