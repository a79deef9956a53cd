//! The PayU gateway against the sandbox's PayU: two readings of the same documents that share no code.

use std::sync::LazyLock;

use chatbill_domain::connector::{Gateway, Signal, Trust, signals};
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, converse};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Closed, Found, LookupRequest, PaymentMode, PaymentRequest,
    RefundRequest, RefundStatus,
};
use chatbill_domain::ports::HttpSend;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::builders::{
    bill, lookup_request, payment_request, reference, refund_request, tenant_with,
};
use sandbox::Sandbox;
use serde_json::{Value, json};
use ureq::http::Request;

static AGENT: LazyLock<ureq::Agent> = LazyLock::new(|| {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .build();
    ureq::Agent::new_with_config(config)
});

fn exchange(method: &str, url: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = if body.is_empty() {
        AGENT.run(request.body(()).unwrap())
    } else {
        AGENT.run(request.body(body).unwrap())
    };
    match answer {
        Ok(mut response) => Answer::Reply(HttpReply {
            status: response.status().as_u16(),
            retry_after: None,
            body: response.body_mut().read_to_vec().unwrap(),
        }),
        Err(error) => Answer::Lost(error.to_string()),
    }
}

/// The network, as far as a connector knows it.
struct Http;

impl HttpSend for Http {
    async fn send(&self, call: &HttpCall) -> Answer {
        use secrecy::ExposeSecret as _;
        let mut headers: Vec<(String, String)> = call
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        if let Some(authorization) = &call.authorization {
            let value = authorization.expose_secret().to_owned();
            headers.push(("authorization".to_owned(), value));
        }
        let mut body = Vec::new();
        if let Some((kind, bytes)) = &call.body {
            headers.push(("content-type".to_owned(), kind.clone()));
            body.clone_from(bytes);
        }
        let (method, url) = (call.method.as_str(), call.url.clone());
        tokio::task::spawn_blocking(move || exchange(method, &url, &headers, &body))
            .await
            .unwrap()
    }
}

/// In the address that PayU was given.
const TOKEN: &str = "token-of-the-address";

struct Shop {
    sandbox: Sandbox,
    gateway: Box<dyn Gateway>,
}

impl Shop {
    /// A shop of its own at PayU; `client` keeps its tokens apart from those of the other tests.
    async fn open(client: &str, account: Value) -> Self {
        let sandbox = Sandbox::start().await.unwrap();
        let tenant = tenant_with(|t| {
            t["payment"] = json!({
                "mode": "payment_link", "gateway": "payu", "base_url": format!("{}/payu", sandbox.url()),
                "credentials": {
                    "key": "gtKFFx", "salts": ["current", "previous"], "client_id": client, "client_secret": "secret",
                    "merchant_id": "8237550", "callback_token": TOKEN,
                },
            });
        });
        let shop = Self {
            gateway: chatbill_gateways::open(&tenant).unwrap(),
            sandbox,
        };
        let mut all = json!({
            "key": "gtKFFx", "salt": "current", "client_id": client, "client_secret": "secret", "merchant_id": "8237550",
            // Nobody listens there: webhooks are read from the sandbox's records.
            "webhook_url": "http://127.0.0.1:9/payu",
        });
        let fields = all.as_object_mut().unwrap();
        fields.extend(account.as_object().unwrap().clone());
        shop.control("POST", "accounts", json!({"payu": all})).await;
        shop
    }

    async fn control(&self, method: &'static str, path: &str, body: Value) -> Value {
        let url = format!("{}/_control/{path}", self.sandbox.url());
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let task = move || exchange(method, &url, &headers, &body);
        match tokio::task::spawn_blocking(task).await.unwrap() {
            Answer::Reply(reply) if reply.status == 200 => reply.json().unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }

    async fn fault(&self, operation: &str, kind: &str) {
        let fault = json!({"vendor": "payu", "operation": operation, "kind": kind, "status": 503});
        self.control("POST", "faults", fault).await;
    }

    async fn now(&self) -> Millis {
        let clock = self.control("GET", "clock", Value::Null).await;
        Millis::from_seconds(clock["now"].as_i64().unwrap())
    }

    async fn request(&self) -> PaymentRequest {
        let now = self.now().await;
        PaymentRequest {
            order_id: self.gateway.order_id(&bill().reference).to_string(),
            amount: Paise::new(85_050).unwrap(),
            expires_at: now.plus_seconds(1800),
            now,
            ..payment_request(PaymentMode::PaymentLink)
        }
    }

    async fn lookup_request(&self, gateway_id: Option<&str>) -> LookupRequest {
        let now = self.now().await;
        LookupRequest {
            order_id: self.gateway.order_id(&bill().reference).to_string(),
            amount: Paise::new(85_050).unwrap(),
            created_at: now,
            now,
            ..lookup_request(PaymentMode::PaymentLink, gateway_id)
        }
    }

    async fn start(
        &self,
        request: &PaymentRequest,
    ) -> Result<chatbill_domain::payment::Started, CallError> {
        converse(&Http, |answers| self.gateway.start(request, answers)).await
    }

    async fn look(&self) -> Found {
        let request = self.lookup_request(None).await;
        converse(&Http, |answers| self.gateway.lookup(&request, answers))
            .await
            .unwrap()
    }

    async fn cancel(&self) -> Result<Canceled, CallError> {
        let request = self.lookup_request(None).await;
        converse(&Http, |answers| self.gateway.cancel(&request, answers)).await
    }

    async fn customer(&self, act: &str, more: Value) -> Value {
        let mut request = json!({"vendor": "payu", "reference_id": "BM345A-12"});
        let fields = request.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        self.control("POST", &format!("customer/{act}"), request)
            .await
    }

    /// What the webhooks of an event say, as the function would hear it.
    async fn heard(&self, event: &str) -> Vec<Signal> {
        self.heard_by(self.gateway.as_ref(), event).await
    }

    /// The same for another merchant of the account.
    async fn heard_by(&self, gateway: &dyn Gateway, event: &str) -> Vec<Signal> {
        let path = format!("webhooks?vendor=payu&event={event}");
        let hooks = self.control("GET", &path, Value::Null).await;
        let mut heard = Vec::new();
        for hook in hooks["webhooks"].as_array().unwrap() {
            let kind = hook["headers"]["Content-Type"].as_str().unwrap();
            let raw = RawWebhook {
                headers: vec![("content-type".to_owned(), kind.to_owned())],
                query: vec![("token".to_owned(), TOKEN.to_owned())],
                body: hook["raw_body"].as_str().unwrap().into(),
            };
            let verified = gateway.verify(raw).unwrap();
            heard.extend(signals(gateway, &verified).unwrap());
        }
        heard
    }
}

#[tokio::test]
async fn a_bill_is_paid_and_given_back() {
    // A refund's callback has the payment's number only, which says something where it is the link's.
    let account = json!({"charges": "11.80", "refunds": "pending", "link_txnid": "invoice"});
    let shop = Shop::open("it-paid", account).await;
    let request = shop.request().await;
    let started = shop.start(&request).await.unwrap();
    assert_eq!(started.id, request.order_id);
    assert_eq!(started.expires_at, request.expires_at);
    // The same again: the link that is there.
    assert_eq!(shop.start(&request).await.unwrap(), started);
    assert_eq!(shop.look().await, Found::default());

    shop.customer("fail", json!({})).await;
    let paid = shop.customer("pay", json!({"method": "card"})).await;
    let id = paid["payment_id"].as_str().unwrap();
    let report = match shop.heard("payment_success").await.as_slice() {
        [
            Signal::Payment {
                reference: named,
                report,
                trust: Trust::Hint,
            },
        ] if *named == reference("BM345A-12") => report.clone(),
        other => panic!("a payment is a hint: {other:?}"),
    };
    assert_eq!(report.payment_id, id);
    let found = shop.look().await;
    assert_eq!(found.closed, None);
    let states: Vec<_> = found
        .reports
        .iter()
        .map(|r| (r.status, r.amount.get()))
        .collect();
    assert_eq!(
        states,
        [
            (AttemptStatus::Captured, 85_050),
            (AttemptStatus::Failed, 85_050)
        ]
    );
    // What the answer says is what the hint said, so the fact is stored once.
    assert_eq!(found.reports[0], report);
    assert_eq!(shop.cancel().await, Ok(Canceled::AlreadyPaid));

    let mut refund = RefundRequest {
        amount: Paise::new(85_050).unwrap(),
        captured: Paise::new(85_050).unwrap(),
        now: shop.now().await,
        ..refund_request(PaymentMode::PaymentLink, id)
    };
    // The answer is lost, and asked for again it is the same refund.
    shop.fault("cancel_refund_transaction", "reset_after").await;
    let ask = async |refund: &RefundRequest| {
        converse(&Http, |answers| shop.gateway.refund(refund, answers)).await
    };
    let first = ask(&refund).await.unwrap();
    assert_eq!(first.status, RefundStatus::Pending);
    assert_eq!(ask(&refund).await.unwrap(), first);
    let request_id = first.id.clone().unwrap();
    shop.control(
        "POST",
        &format!("refunds/{request_id}"),
        json!({"status": "processed"}),
    )
    .await;
    refund.gateway_refund_id = Some(request_id);
    let done = converse(&Http, |answers| {
        shop.gateway.lookup_refund(&refund, answers)
    })
    .await;
    let done = done.unwrap().unwrap();
    assert_eq!(done.status, RefundStatus::Processed);
    assert!(done.bank_reference.is_some());
    assert!(matches!(
        shop.heard("refund").await.as_slice(),
        [Signal::Refund { report, trust: Trust::Hint, .. }] if report.id == done.id
    ));
    let other = RefundRequest {
        token: "another".to_owned(),
        ..refund
    };
    assert!(matches!(ask(&other).await, Err(CallError::Rejected { code, .. }) if code == "105"));
}

#[tokio::test]
async fn a_link_is_made_once_whatever_happens_to_the_answers() {
    for (client, kind) in [
        ("it-cut", "reset_after"),
        ("it-503", "status_after"),
        ("it-503b", "status"),
        ("it-cutb", "reset"),
    ] {
        let shop = Shop::open(client, json!({"refusal_status": 400})).await;
        shop.fault("create_payment_link", kind).await;
        let started = shop.start(&shop.request().await).await.unwrap();
        let found = shop.look().await;
        assert_eq!((found.reports.len(), found.closed), (0, None), "{kind}");
        let paid = shop
            .control("POST", "customer/pay", json!({"link": started.link}))
            .await;
        assert_eq!(paid["amount"], 85_050, "{kind}");
    }
}

#[tokio::test]
async fn a_link_that_ended_stays_ended() {
    let shop = Shop::open("it-ended", json!({})).await;
    assert_eq!(shop.cancel().await, Ok(Canceled::Closed), "there is none");
    let request = shop.request().await;
    shop.start(&request).await.unwrap();
    shop.fault("update_payment_link", "reset_after").await;
    assert_eq!(shop.cancel().await, Ok(Canceled::Closed));
    assert_eq!(shop.look().await.closed, Some(Closed::Canceled));
    let again = shop.start(&request).await;
    assert!(matches!(again, Err(CallError::Rejected { code, .. }) if code == "link_canceled"));
    // The bank was slower than the shop: the money is seen.
    shop.customer("pay", json!({"late": true})).await;
    assert_eq!(shop.look().await.reports[0].status, AttemptStatus::Captured);

    let shop = Shop::open("it-expired", json!({})).await;
    shop.start(&shop.request().await).await.unwrap();
    shop.control("POST", "clock", json!({"advance_seconds": 1801}))
        .await;
    assert_eq!(shop.look().await.closed, Some(Closed::Expired));
}

#[tokio::test]
async fn money_that_is_not_captured_pays_nothing() {
    let shop = Shop::open("it-auth", json!({})).await;
    shop.start(&shop.request().await).await.unwrap();
    shop.customer("pay", json!({"authorize_only": true})).await;
    assert_eq!(
        shop.look().await.reports[0].status,
        AttemptStatus::Authorized
    );
    shop.customer("pay", json!({"pending": true})).await;
    assert_eq!(shop.look().await.reports[0].status, AttemptStatus::Pending);
    shop.customer("pay", json!({"amount": 85_049})).await;
    // Another amount is passed on as it is; the order is held.
    let report = shop.look().await.reports.remove(0);
    assert_eq!(
        (report.status, report.amount.get()),
        (AttemptStatus::Captured, 85_049)
    );
}

#[tokio::test]
async fn a_token_that_ended_is_renewed() {
    let shop = Shop::open("it-token", json!({})).await;
    shop.start(&shop.request().await).await.unwrap();
    let request = shop.request().await;
    shop.control("POST", "clock", json!({"advance_seconds": 7200}))
        .await;
    // By our clock the token is good.
    let looked = shop.lookup_request(None).await;
    let early = LookupRequest {
        now: request.now,
        ..looked
    };
    let found = converse(&Http, |answers| shop.gateway.lookup(&early, answers)).await;
    assert_eq!(found.unwrap().closed, Some(Closed::Expired));
    let calls = shop
        .control("GET", "received?vendor=payu&operation=token", Value::Null)
        .await;
    assert_eq!(calls["count"], 2);
}

/// Both have a bill BM345A-12, and PayU tells both of every payment of the account.
#[tokio::test]
async fn two_merchants_of_one_account_are_kept_apart() {
    for account in [
        json!({}),
        json!({"webhook_body": "json", "link_hash": "client_secret", "link_txnid": "invoice"}),
    ] {
        let client = format!("it-shared-{}", account.as_object().unwrap().len());
        let shop = Shop::open(&client, account).await;
        let other = chatbill_gateways::open(&tenant_with(|t| {
            t["tenant_id"] = json!("bazaar");
            t["payment"] = json!({
                "mode": "payment_link", "gateway": "payu", "base_url": format!("{}/payu", shop.sandbox.url()),
                "credentials": {
                    "key": "gtKFFx", "salts": ["current"], "client_id": client, "client_secret": "secret",
                    "merchant_id": "8237550",
                },
            });
        }))
        .unwrap();
        let request = shop.request().await;
        let theirs = PaymentRequest {
            order_id: other.order_id(&request.reference).to_string(),
            ..request.clone()
        };
        let ours = shop.start(&request).await.unwrap();
        let begun = converse(&Http, |answers| other.start(&theirs, answers)).await;
        assert_ne!(begun.unwrap().link, ours.link);

        shop.control("POST", "customer/pay", json!({"link": ours.link}))
            .await;
        assert_eq!(shop.look().await.reports[0].status, AttemptStatus::Captured);
        let asked = LookupRequest {
            order_id: theirs.order_id,
            ..shop.lookup_request(None).await
        };
        let found = converse(&Http, |answers| other.lookup(&asked, answers)).await;
        assert_eq!(found, Ok(Found::default()));
        assert!(matches!(
            shop.heard("payment_success").await.as_slice(),
            [Signal::Payment { reference: named, trust: Trust::Hint, .. }] if *named == reference("BM345A-12")
        ));
        let heard = shop.heard_by(other.as_ref(), "payment_success").await;
        assert!(
            matches!(heard.as_slice(), [Signal::Foreign(_)]),
            "{heard:?}"
        );
    }
}

#[tokio::test]
async fn a_refund_waits_until_the_balance_covers_it() {
    let shop = Shop::open("it-balance", json!({"balance": 100, "refunds": "pending"})).await;
    shop.start(&shop.request().await).await.unwrap();
    let paid = shop.customer("pay", json!({})).await;
    let refund = RefundRequest {
        amount: Paise::new(85_050).unwrap(),
        captured: Paise::new(85_050).unwrap(),
        now: shop.now().await,
        ..refund_request(
            PaymentMode::PaymentLink,
            paid["payment_id"].as_str().unwrap(),
        )
    };
    let ask = async || converse(&Http, |answers| shop.gateway.refund(&refund, answers)).await;
    let short = ask().await;
    assert!(matches!(short, Err(CallError::NotNow { .. })), "{short:?}");
    let top_up = json!({"payu": {"key": "gtKFFx", "balance": 100_000}});
    shop.control("POST", "accounts", top_up).await;
    assert_eq!(ask().await.unwrap().status, RefundStatus::Pending);
}
