//! Meta's connector against the sandbox, over real sockets: what one writes the other must read, and they share no code.

use std::time::Duration;

use chatbill_domain::bill::Bill;
use chatbill_domain::connector::{Channel, SendStep, Signal, Trust, Wish};
use chatbill_domain::http::{Answer, CallError, HttpCall, converse};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::message::{
    Checkout, Content, Form, MessageKey, Outgoing, QrCode, Remedy, SendFailure, Tag, Template,
};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, PaymentMode, RefundReport, RefundRequest, RefundStatus, Speed,
};
use chatbill_domain::ports::HttpSend as _;
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::RawWebhook;
use chatbill_runtime::http_client::HttpClient;
use sandbox::Sandbox;
use serde_json::{Value, json};

const PHONE: &str = "+919876543210";

/// A shop at Meta.
struct Shop {
    sandbox: Sandbox,
    http: HttpClient,
    channel: Box<dyn Channel>,
}

impl Shop {
    async fn open() -> Self {
        let sandbox = Sandbox::start().await.unwrap();
        let document = json!({
            "tenant_id": "acme", "display_name": "Acme Stores",
            "api_keys": [{"id": "pos-1", "sha256": "0".repeat(64), "scopes": ["invoices"]}],
            "receipt_secrets": ["0123456789abcdef"],
            "channel": {
                "kind": "whatsapp", "provider": "meta", "from": "+918045210677",
                "base_url": format!("{}/meta", sandbox.url()),
                "credentials": {"phone_number_id": "106540352242922", "waba_id": "102290129340398", "access_token": "token",
                                "app_secrets": ["app secret"], "verify_token": "verify"},
            },
            "payment": {"mode": "payment_gateway", "gateway": "razorpay", "configuration_name": "shop pay", "credentials": {}},
        });
        let tenant = Tenant::read(&document.to_string(), true).unwrap();
        let shop = Self {
            channel: chatbill_channels::open(&tenant).unwrap(),
            http: HttpClient::new(Duration::from_secs(5)).unwrap(),
            sandbox,
        };
        shop.control("accounts", json!({"meta": {
            "phone_number_id": "106540352242922", "waba_id": "102290129340398", "access_token": "token",
            "app_secret": "app secret", "webhook_url": "http://127.0.0.1:9/",
            "configurations": [{"configuration_name": "shop pay", "provider_name": "razorpay"}],
            "templates": [{"name": "bill", "language": "en", "kind": "order_details", "header": "image"}],
        }}))
        .await;
        shop.control("customer/message", json!({"phone": PHONE}))
            .await;
        shop
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let call = HttpCall::post_json(
            "sandbox.control",
            format!("{}/_control/{path}", self.sandbox.url()),
            String::new().into(),
            &body,
        );
        match self.http.send(&call).await {
            Answer::Reply(reply) if reply.ok() => reply.json().unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }

    async fn look(&self, path: &str) -> Value {
        let call = HttpCall::get(
            "sandbox.look",
            format!("{}/_control/{path}", self.sandbox.url()),
            String::new().into(),
        );
        match self.http.send(&call).await {
            Answer::Reply(reply) => reply.json().unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }

    async fn fault(&self, operation: &str, more: Value) {
        let mut fault = json!({"vendor": "meta", "operation": operation});
        fault
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.control("faults", fault).await;
    }

    /// Sends a bill with the code to pay above it.
    async fn bill(&self, reference: &str, in_template: bool) -> Result<String, SendFailure> {
        let document = json!({
            "reference_id": reference, "customer": {"phone": PHONE}, "goods": "physical-goods",
            "items": [{"retailer_id": "SKU1", "name": "Tea", "quantity": 1, "amount": {"value": 1000, "offset": 100}}],
        });
        let bill = Bill::read(&document, chatbill_domain::phone::Country::INDIA, || {
            ReferenceId::parse("unnamed").unwrap()
        })
        .unwrap();
        let template = Template {
            name: "bill".into(),
            language: "en".into(),
            parameters: vec![],
            media_header: true,
            standard_picture: None,
        };
        let tag = Tag {
            reference: bill.reference.clone(),
            message: MessageKey::Invoice(1),
            attempt: 1,
        };
        let png = chatbill_qr::png("https://pay.example/r/token").unwrap();
        let now = self.look("clock").await["now"].as_i64().unwrap();
        let message = Outgoing {
            to: &bill.customer.phone,
            reference: &bill.reference,
            tag: &tag,
            bill: &bill,
            now: Millis::from_seconds(now),
            expires_at: Millis::from_seconds(now + 1800),
            mode: PaymentMode::PaymentGateway,
            shop: "Acme Stores",
            receipt_url: "https://pay.example/r/token",
            callback_base: "https://pay.example",
            payment_id: None,
            received: None,
            content: Content::Invoice {
                payment: Checkout::Configuration {
                    gateway: "razorpay",
                    name: "shop pay",
                },
            },
            form: if in_template {
                Form::Template
            } else {
                Form::Interactive
            },
            template: in_template.then_some(&template),
            qr: Some(QrCode::Png(&png)),
            bare: false,
        };
        let mut answers = Vec::new();
        loop {
            match self.channel.send(&message, &answers) {
                SendStep::Call(call) => answers.push(self.http.send(&call).await),
                SendStep::Sent { id, .. } => return Ok(id),
                SendStep::Failed(failure) => return Err(failure),
            }
        }
    }

    async fn received(&self, operation: &str) -> u64 {
        self.look(&format!("received?vendor=meta&operation={operation}"))
            .await["count"]
            .as_u64()
            .unwrap()
    }

    async fn refund(&self, request: &RefundRequest) -> Result<RefundReport, CallError> {
        converse(&self.http, |answers| self.channel.refund(request, answers)).await
    }

    async fn became(&self, request: &RefundRequest) -> Option<RefundReport> {
        converse(&self.http, |answers| {
            self.channel.lookup_refund(request, answers)
        })
        .await
        .unwrap()
    }

    /// What the connector makes of every webhook of this event.
    async fn heard(&self, event: &str) -> Vec<Signal> {
        let hooks = self
            .look(&format!("webhooks?vendor=meta&event={event}"))
            .await;
        hooks["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|hook| {
                let headers = hook["headers"].as_object().unwrap();
                let raw = RawWebhook {
                    headers: headers
                        .iter()
                        .map(|(name, value)| {
                            (name.to_lowercase(), value.as_str().unwrap().to_owned())
                        })
                        .collect(),
                    query: vec![],
                    body: hook["raw_body"].as_str().unwrap().as_bytes().to_vec(),
                };
                let verified = self.channel.verify(raw).unwrap();
                self.channel.read(&verified).unwrap()
            })
            .collect()
    }
}

fn paise(paise: i64) -> Paise {
    Paise::new(paise).unwrap()
}

fn refund_of(payment_id: &str, refund_id: &str, amount: i64, before: i64) -> RefundRequest {
    RefundRequest {
        reference: ReferenceId::parse("INV-1").unwrap(),
        order_id: "INV-1".into(),
        gateway_id: None,
        mode: PaymentMode::PaymentGateway,
        payment_id: payment_id.into(),
        captured: paise(1000),
        captured_at: Millis::from_seconds(1),
        refund_id: refund_id.into(),
        token: "abcdefghij0123456789".into(),
        amount: paise(amount),
        before: paise(before),
        others: Vec::new(),
        unnamed: Vec::new(),
        ahead: 0,
        first: false,
        same_amount_at: None,
        speed: Speed::Instant,
        reason: None,
        now: Millis::from_seconds(2),
        gateway_refund_id: None,
        not_now: None,
    }
}

#[tokio::test]
async fn the_code_to_pay_is_uploaded_and_stands_above_the_bill() {
    let shop = Shop::open().await;
    shop.bill("INV-1", false).await.unwrap();
    shop.bill("INV-2", true).await.unwrap();
    let inbox = shop.look("customer/inbox?phone=%2B919876543210").await;
    let bodies: Vec<&Value> = inbox["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["body"])
        .collect();
    let free = &bodies[0]["interactive"]["header"];
    let template = &bodies[1]["template"]["components"][0]["parameters"][0];
    for header in [free, template] {
        assert_eq!(header["type"], "image");
        assert!(header["image"]["id"].is_string());
    }
    assert_ne!(free["image"]["id"], template["image"]["id"]);
}

#[tokio::test]
async fn an_upload_that_fails_sends_nothing_and_may_be_repeated() {
    let shop = Shop::open().await;
    for (fault, remedy, code) in [
        (json!({"kind": "reset_after"}), Remedy::Retry, "upload_lost"),
        (json!({"kind": "reset"}), Remedy::Retry, "upload_lost"),
        (
            json!({"kind": "status", "status": 400, "code": 80_007}),
            Remedy::Throttled(5),
            "80007",
        ),
        (
            json!({"kind": "status", "status": 429, "code": 130_429, "headers": {"Retry-After": "4"}}),
            Remedy::Throttled(4),
            "130429",
        ),
    ] {
        shop.fault("upload_media", fault).await;
        let failure = shop.bill("INV-1", true).await.unwrap_err();
        assert_eq!((failure.remedy, failure.code.as_str()), (remedy, code));
    }
    assert_eq!(shop.received("send_message").await, 0);
    // What Meta finds wrong with the picture does not hold up the bill, unless a template insists.
    let refused = json!({"kind": "status", "status": 400, "code": 131_053});
    shop.fault("upload_media", refused.clone()).await;
    assert_eq!(
        shop.bill("INV-1", true).await.unwrap_err().remedy,
        Remedy::Media
    );
    shop.fault("upload_media", refused).await;
    shop.bill("INV-1", false).await.unwrap();
    shop.fault(
        "send_message",
        json!({"kind": "status", "status": 400, "code": 130_429}),
    )
    .await;
    assert_eq!(
        shop.bill("INV-2", false).await.unwrap_err().remedy,
        Remedy::Throttled(2)
    );
}

#[tokio::test]
async fn native_payments_are_refunded_in_parts_and_never_twice() {
    let shop = Shop::open().await;
    shop.bill("INV-1", false).await.unwrap();
    let pay = json!({"vendor": "meta", "reference_id": "INV-1"});
    let paid = shop.control("customer/pay", pay).await;
    let payment = paid["pg_transaction_id"].as_str().unwrap();
    let reference = ReferenceId::parse("INV-1").unwrap();
    let found = converse(&shop.http, |answers| {
        shop.channel.lookup_payment(&reference, answers)
    })
    .await
    .unwrap();
    assert_eq!(found.reports[0].status, AttemptStatus::Captured);
    assert_eq!(found.reports[0].payment_id, payment);
    assert_eq!(found.refunds, []);

    // Asked twice, made once.
    let first = refund_of(payment, "RF-1", 300, 0);
    assert_eq!(shop.became(&first).await, None);
    let report = shop.refund(&first).await.unwrap();
    assert_eq!(
        (report.status, report.speed),
        (RefundStatus::Processed, Some(Speed::Instant))
    );
    assert_eq!(shop.refund(&first).await.unwrap().id, report.id);
    assert_eq!(shop.received("refund_payment").await, 1);

    // The same sum again is another refund. Its answer is lost, and it is found instead of made again.
    let second = RefundRequest {
        same_amount_at: Some(Millis::from_seconds(1)),
        ..refund_of(payment, "RF-2", 300, 300)
    };
    assert_eq!(shop.became(&second).await, None);
    shop.fault("refund_payment", json!({"kind": "reset_after"}))
        .await;
    assert!(matches!(
        shop.refund(&second).await,
        Err(CallError::Unknown { .. })
    ));
    let made = shop.became(&second).await.unwrap();
    assert_ne!(made.id, report.id);
    assert_eq!(shop.refund(&second).await.unwrap().id, made.id);
    assert_eq!(shop.received("refund_payment").await, 2);

    // Lost before Meta had it: not there, so it is made when asked again.
    let third = refund_of(payment, "RF-3", 400, 600);
    shop.fault("refund_payment", json!({"kind": "reset"})).await;
    assert!(matches!(
        shop.refund(&third).await,
        Err(CallError::Unknown { .. })
    ));
    assert_eq!(shop.became(&third).await, None);
    shop.refund(&third).await.unwrap();

    // Nothing is left, and Meta says so; another payment is not touched.
    let more = refund_of(payment, "RF-4", 1, 1000);
    assert_eq!(shop.channel.check_refund(&more)[0].code, "too_large");
    assert!(
        matches!(shop.refund(&more).await, Err(CallError::Rejected { code, .. }) if code == "131009")
    );
    let other = refund_of("pay_other", "RF-5", 1, 0);
    assert!(
        matches!(shop.refund(&other).await, Err(CallError::Rejected { code, .. }) if code == "refund_no_payment")
    );

    let found = converse(&shop.http, |answers| {
        shop.channel.lookup_payment(&reference, answers)
    })
    .await
    .unwrap();
    let refunded: Vec<i64> = found.refunds.iter().map(|r| r.amount.get()).collect();
    assert_eq!(refunded, [300, 300, 400]);

    // The webhooks tell of them too, as hints.
    let told = shop.heard("payment.captured").await;
    assert!(told.iter().all(|signal| matches!(
        signal,
        Signal::Payment {
            trust: Trust::Hint,
            ..
        } | Signal::Refund {
            trust: Trust::Hint,
            ..
        }
    )));
    let last: Vec<_> = told
        .iter()
        .filter_map(|signal| match signal {
            Signal::Refund { report, .. } => Some(report),
            _ => None,
        })
        .collect();
    assert_eq!(last.len(), 1 + 2 + 3, "after each refund all of them");
    assert!(found.refunds.contains(last[5]));
}

#[tokio::test]
async fn a_refund_under_way_is_followed_to_its_end() {
    let shop = Shop::open().await;
    shop.control(
        "accounts",
        json!({"meta": {"phone_number_id": "106540352242922", "refunds": "pending"}}),
    )
    .await;
    shop.bill("INV-1", false).await.unwrap();
    let pay = json!({"vendor": "meta", "reference_id": "INV-1"});
    let paid = shop.control("customer/pay", pay).await;
    let payment = paid["pg_transaction_id"].as_str().unwrap();
    let asked = refund_of(payment, "RF-1", 1000, 0);
    let begun = shop.refund(&asked).await.unwrap();
    assert_eq!(begun.status, RefundStatus::Pending);
    let asked = RefundRequest {
        gateway_refund_id: begun.id.clone(),
        ..asked
    };
    assert_eq!(
        shop.became(&asked).await.unwrap().status,
        RefundStatus::Pending
    );
    let id = begun.id.unwrap();
    shop.control(&format!("refunds/{id}"), json!({"status": "failed"}))
        .await;
    assert_eq!(
        shop.became(&asked).await.unwrap().status,
        RefundStatus::Failed
    );
}

#[tokio::test]
async fn customers_are_heard_as_long_as_their_number_is_shown() {
    let shop = Shop::open().await;
    let phone = |more: Value| {
        let mut request = json!({"phone": PHONE});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        request
    };
    for said in [
        json!({"text": "STOP"}),
        json!({"button": "Unsubscribe"}),
        json!({"reply_button": "Start"}),
    ] {
        shop.control("customer/message", phone(said)).await;
    }
    let wishes: Vec<_> = shop
        .heard("message")
        .await
        .into_iter()
        .map(|signal| match signal {
            Signal::Inbound {
                phone,
                at: Some(_),
                wish,
            } => {
                assert_eq!(phone.e164(), PHONE);
                wish
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        wishes,
        [
            None,
            Some(Wish::OptOut),
            Some(Wish::OptOut),
            Some(Wish::OptIn)
        ]
    );
    shop.control("customer/phone", phone(json!({"username": true})))
        .await;
    shop.control("customer/message", phone(json!({"text": "STOP"})))
        .await;
    assert!(matches!(
        shop.heard("message").await.last(),
        Some(Signal::InboundHidden { .. })
    ));
    shop.control("customer/message", phone(json!({"marketing": "stop"})))
        .await;
    assert!(matches!(
        &shop.heard("user_preferences").await[..],
        [Signal::Ignored(_)]
    ));
    // Reports find their message by its tag.
    shop.bill("INV-1", false).await.unwrap();
    let reports = shop.heard("status").await;
    assert_eq!(reports.len(), 2);
    assert!(
        reports
            .iter()
            .all(|signal| matches!(signal, Signal::Message { tag, .. } if tag.attempt == 1))
    );
}
