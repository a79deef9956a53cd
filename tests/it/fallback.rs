//! Exotel and Kaleyra within the use cases: an SMS when WhatsApp has definitely failed and never otherwise, a sender that rests, and
//! a bill paid inside WhatsApp that names and proves itself.

use chatbill_domain::connector::{Channel, Gateways};
use chatbill_domain::flows::apply_webhook::{self, Askable, apply_webhook};
use chatbill_domain::flows::deliver::{self, Verdict, deliver};
use chatbill_domain::http::{Answer, HttpCall, HttpReply};
use chatbill_domain::message::Form;
use chatbill_domain::order::{Draft, Message, MessageStatus, Order, PaymentStatus};
use chatbill_domain::pace::Pace;
use chatbill_domain::payment::PaymentMode;
use chatbill_domain::ports::{HttpSend, Queue as _, Visibility as _};
use chatbill_domain::signature::hmac_sha256;
use chatbill_domain::tenant::Tenant;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::builders;
use chatbill_testkit::memory::SeededRandom;
use chatbill_testkit::world::{World, started};
use serde_json::{Value, json};

const TOKEN: &str = "a-token-of-24-characters";

/// A tenant, its connectors and everything around them.
struct Shop {
    world: World,
    tenant: Tenant,
    channel: Box<dyn Channel>,
    gateways: Gateways,
    pace: Pace,
    random: SeededRandom,
}

impl Shop {
    fn with(change: impl Fn(&mut Value)) -> Self {
        let tenant = builders::tenant_with(&change);
        Self {
            world: World::with(&change),
            channel: chatbill_channels::open(&tenant).unwrap(),
            gateways: chatbill_gateways::open_all(&tenant).unwrap(),
            tenant,
            pace: Pace::new(1),
            random: SeededRandom::new(1),
        }
    }

    fn both_ways(provider: &'static str) -> Self {
        Self::with(|document| {
            let account = match provider {
                "exotel" => {
                    json!({"account_sid": "acme1", "api_key": "key", "api_token": "token", "dlt_entity_id": "1201"})
                }
                _ => json!({"sid": "HXIN1", "api_key": "key"}),
            };
            document["channel"] = json!({"kind": "whatsapp", "provider": provider, "from": "+918045210677",
                "fallback_to_sms": true, "credentials": account});
            let credentials = document["channel"]["credentials"].as_object_mut().unwrap();
            credentials.insert("callback_token".into(), json!(TOKEN));
            credentials.insert("sender".into(), json!("ACMEST"));
            credentials.insert(
                "dlt_template_ids".into(),
                json!({"invoice": "1107", "paid": "1108"}),
            );
        })
    }

    async fn sell(&self, draft: Draft) -> Order {
        let link = match draft.contents.terms.mode {
            PaymentMode::PaymentGateway => vec![],
            _ => vec![started()],
        };
        let order = self.world.order_of(draft, link).await;
        let task = chatbill_domain::flows::task(&order.key, &order.messages[0]);
        self.world.queue.send(&task).await.unwrap();
        order
    }

    /// The queue hands out what it has now; gives what became of the last task.
    async fn send(&self) -> Option<Verdict> {
        self.send_over(&self.world.http).await
    }

    async fn send_over<H: HttpSend>(&self, http: &H) -> Option<Verdict> {
        let mut last = None;
        while let Some(received) = self.world.queue.receive() {
            let deps = deliver::Deps {
                store: &self.world.store,
                http,
                clock: &self.world.clock,
                random: &self.random,
                pace: &self.pace,
                draw: |_| None,
            };
            let channel = self.channel.as_ref();
            let first = received.count == 1;
            let verdict = deliver(&deps, &self.tenant, channel, &received.task, first)
                .await
                .unwrap();
            match verdict {
                Verdict::Done => self.world.queue.delete(&received.receipt),
                Verdict::Again(seconds) => {
                    let postponed = self.world.queue.postpone(&received.receipt, seconds);
                    postponed.await.unwrap();
                }
            }
            last = Some(verdict);
        }
        last
    }

    async fn webhook(&self, source: &'static str, raw: RawWebhook) {
        let signals = if source == "razorpay" {
            let verified = self.gateways.current().verify(raw).unwrap();
            self.gateways.current().read(&verified).unwrap()
        } else {
            let verified = self.channel.verify(raw).unwrap();
            self.channel.read(&verified).unwrap()
        };
        let deps = apply_webhook::Deps {
            store: &self.world.store,
            queue: &self.world.queue,
            http: &self.world.http,
            clock: &self.world.clock,
        };
        let ask = Askable {
            gateways: &self.gateways,
            channel: self.channel.as_ref(),
        };
        apply_webhook(&deps, &self.tenant.id, source, signals, ask)
            .await
            .unwrap();
    }

    fn order(&self) -> Order {
        let key = builders::key("acme", "BM345A-12");
        self.world.store.order(&key).unwrap()
    }

    fn bill(&self) -> Message {
        self.order().messages[0].clone()
    }

    fn labels(&self) -> Vec<&'static str> {
        self.world.http.labels()
    }
}

/// How a provider says things.
struct Provider {
    name: &'static str,
    whatsapp: &'static str,
    sms: &'static str,
    taken: fn() -> Answer,
    refused: fn() -> Answer,
    sms_taken: fn() -> Answer,
    /// A report about the first try, which was a WhatsApp message, or the second, an SMS.
    report: fn(attempt: u32, good: bool) -> RawWebhook,
}

fn reply(status: u16, body: &Value) -> Answer {
    Answer::Reply(HttpReply {
        status,
        retry_after: None,
        body: body.to_string().into_bytes(),
    })
}

fn exotel_message(message: &Value) -> Answer {
    reply(
        202,
        &json!({"http_code": 202, "response": {"whatsapp": {"messages": [message]}}}),
    )
}

fn to_us(query: &[(&str, &str)], body: String) -> RawWebhook {
    RawWebhook {
        headers: vec![],
        query: query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.into_bytes(),
    }
}

const EXOTEL: Provider = Provider {
    name: "exotel",
    whatsapp: "exotel.send_whatsapp",
    sms: "exotel.send_sms",
    taken: || exotel_message(&json!({"code": 202, "status": "success", "data": {"sid": "wa1"}})),
    refused: || {
        exotel_message(&json!({"code": 400, "status": "failure", "data": null,
            "error_data": {"code": 30_012, "message": "EX_INVALID_RECIPIENT", "description": "no"}}))
    },
    sms_taken: || {
        reply(
            200,
            &json!({"SMSMessage": {"Sid": "sms1", "Status": "queued"}}),
        )
    },
    report: |attempt, good| {
        let body = match (attempt, good) {
            (1, _) => {
                let (code, word) = if good {
                    (30_002, "EX_MESSAGE_DELIVERED")
                } else {
                    (30_018, "EX_REENGAGEMENT_ERROR")
                };
                json!({"whatsapp": {"messages": [{"callback_type": "dlr", "sid": "wa1", "exo_status_code": code,
                    "exo_detailed_status": word, "custom_data": "1:BM345A-12:invoice.1:1"}]}})
                .to_string()
            }
            (_, good) => {
                let status = if good {
                    "sent&DetailedStatusCode=20005"
                } else {
                    "failed&DetailedStatusCode=23010"
                };
                format!(
                    "SmsSid=sms1&Status={status}&CustomField=1%3ABM345A-12%3Ainvoice.1%3A{attempt}"
                )
            }
        };
        to_us(&[("token", TOKEN)], body)
    },
};

const KALEYRA: Provider = Provider {
    name: "kaleyra",
    whatsapp: "kaleyra.send_whatsapp",
    sms: "kaleyra.send_sms",
    taken: || {
        reply(
            202,
            &json!({"id": "wa1", "data": [{"message_id": "wa1:0"}], "error": {}}),
        )
    },
    refused: || {
        reply(
            400,
            &json!({"code": "E413", "message": "Invalid/incorrect inputs", "data": [], "error": {"to": "no"}}),
        )
    },
    sms_taken: || {
        reply(
            202,
            &json!({"id": "sms1", "data": [{"message_id": "sms1:0"}], "error": {}}),
        )
    },
    report: |attempt, good| {
        let status = match (attempt, good) {
            (1, true) => "delivered",
            (1, false) => "failed",
            (_, true) => "DELIVRD",
            (_, false) => "NOT-SENT",
        };
        let tag = format!("1:BM345A-12:invoice.1:{attempt}");
        to_us(
            &[("token", TOKEN), ("tag", &tag)],
            json!({"status": status}).to_string(),
        )
    },
};

const PROVIDERS: [Provider; 2] = [EXOTEL, KALEYRA];

#[tokio::test]
async fn a_refused_message_goes_on_by_sms_at_once() {
    for provider in PROVIDERS {
        let shop = Shop::both_ways(provider.name);
        shop.sell(builders::draft(builders::bill())).await;
        shop.world
            .http
            .answer(provider.whatsapp, (provider.refused)())
            .answer(provider.sms, (provider.sms_taken)());
        assert_eq!(shop.send().await, Some(Verdict::Done), "{}", provider.name);
        assert_eq!(shop.labels(), [provider.whatsapp, provider.sms]);
        let bill = shop.bill();
        assert_eq!(
            (bill.form, bill.status, bill.attempts),
            (Some(Form::Sms), MessageStatus::Sent, 2)
        );
        assert!(bill.segments.is_some_and(|parts| parts <= 2));
        // The short link, and the second try's own name in what comes back.
        let calls = shop.world.http.calls();
        let sms = String::from_utf8(calls[1].body.clone().unwrap().1).unwrap();
        let (_, link) = sms.split_once("https%3A%2F%2Fshop.example%2Fr%2F").unwrap();
        assert_eq!(link.split('&').next().unwrap().len(), 13, "{sms}");
        assert!(sms.contains("=1%3ABM345A-12%3Ainvoice.1%3A2"), "{sms}");
        shop.webhook(provider.name, (provider.report)(2, true))
            .await;
        assert_eq!(shop.bill().status, MessageStatus::Delivered);
    }
}

#[tokio::test]
async fn a_message_reported_as_failed_goes_on_by_sms() {
    for provider in PROVIDERS {
        let shop = Shop::both_ways(provider.name);
        shop.sell(builders::draft(builders::bill())).await;
        shop.world
            .http
            .answer(provider.whatsapp, (provider.taken)())
            .answer(provider.sms, (provider.sms_taken)());
        shop.send().await;
        assert_eq!(shop.bill().form, Some(Form::Interactive));
        shop.webhook(provider.name, (provider.report)(1, false))
            .await;
        shop.send().await;
        assert_eq!(
            shop.labels(),
            [provider.whatsapp, provider.sms],
            "{}",
            provider.name
        );
        assert_eq!(shop.bill().form, Some(Form::Sms));
        // The same report again, and the SMS's own failure: nothing more goes out.
        shop.webhook(provider.name, (provider.report)(1, false))
            .await;
        shop.webhook(provider.name, (provider.report)(2, false))
            .await;
        shop.send().await;
        assert_eq!(shop.labels().len(), 2);
        assert_eq!(shop.bill().status, MessageStatus::Failed);
    }
}

#[tokio::test]
async fn a_message_that_may_have_arrived_is_never_followed_by_sms() {
    for provider in PROVIDERS {
        for answer in [
            Answer::Lost("timed out".into()),
            reply(502, &json!("<html>")),
            reply(202, &json!({})),
        ] {
            let shop = Shop::both_ways(provider.name);
            shop.sell(builders::draft(builders::bill())).await;
            shop.world
                .http
                .answer(provider.whatsapp, answer.clone())
                .answer(provider.whatsapp, (provider.refused)());
            assert!(matches!(shop.send().await, Some(Verdict::Again(_))));
            assert_eq!(shop.bill().status, MessageStatus::Unknown, "{answer:?}");
            shop.world.clock.advance(300);
            shop.send().await;
            let labels = shop.labels();
            assert_eq!(labels, [provider.whatsapp, provider.whatsapp], "{answer:?}");
            assert_eq!(shop.bill().status, MessageStatus::Failed);
        }
    }
}

/// A provider whose report comes while the caller still waits for the answer, which then is lost.
struct Hasty<'a> {
    shop: &'a Shop,
    provider: &'a Provider,
}

impl HttpSend for Hasty<'_> {
    async fn send(&self, call: &HttpCall) -> Answer {
        assert_eq!(call.label, self.provider.whatsapp);
        let report = (self.provider.report)(1, true);
        self.shop.webhook(self.provider.name, report).await;
        Answer::Lost("timed out".into())
    }
}

#[tokio::test]
async fn a_report_that_overtakes_the_lost_answer_leaves_nothing_to_wait_for() {
    for provider in &PROVIDERS {
        let shop = Shop::both_ways(provider.name);
        shop.sell(builders::draft(builders::bill())).await;
        let verdict = shop
            .send_over(&Hasty {
                shop: &shop,
                provider,
            })
            .await;
        assert_eq!(verdict, Some(Verdict::Done), "{}", provider.name);
        assert_eq!(shop.bill().status, MessageStatus::Delivered);
        assert!(shop.labels().is_empty(), "no SMS");
    }
}

#[tokio::test]
async fn a_throttled_sender_rests_and_its_other_bills_wait() {
    for provider in PROVIDERS {
        for (retry_after, least) in [(Some(40), 40), (None, 10)] {
            let shop = Shop::both_ways(provider.name);
            shop.sell(builders::draft(builders::bill())).await;
            let throttled = Answer::Reply(HttpReply {
                status: 429,
                retry_after,
                body: b"{}".to_vec(),
            });
            shop.world.http.answer(provider.whatsapp, throttled);
            let verdict = shop.send().await;
            assert!(
                matches!(verdict, Some(Verdict::Again(seconds)) if seconds >= least),
                "{} {verdict:?}",
                provider.name
            );
            assert_eq!(shop.bill().status, MessageStatus::Retrying);
            // Another bill is not even tried, and loses no try.
            let other = builders::bill_with(|bill| bill["reference_id"] = json!("other"));
            let order = shop.sell(builders::draft(other)).await;
            let verdict = shop.send().await;
            assert!(matches!(verdict, Some(Verdict::Again(_))), "{verdict:?}");
            let order = shop.world.store.order(&order.key).unwrap();
            assert_eq!(order.messages[0].attempts, 0);
            assert_eq!(shop.labels(), [provider.whatsapp]);
        }
    }
}

/// What Razorpay reports of a payment made inside WhatsApp, with the notes the bill's message had.
fn native_payment(notes: &Value, amount: i64) -> RawWebhook {
    let body = json!({"entity": "event", "event": "payment.captured", "contains": ["payment"], "payload": {"payment": {"entity": {
        "id": "pay_1", "entity": "payment", "amount": amount, "currency": "INR", "status": "captured", "order_id": "order_1",
        "method": "upi", "captured": true, "notes": notes, "created_at": builders::NOW.seconds()}}}})
    .to_string();
    let signature = hex::encode(hmac_sha256(b"test-webhook-secret", body.as_bytes()));
    RawWebhook {
        headers: vec![("x-razorpay-signature".into(), signature)],
        query: vec![],
        body: body.into_bytes(),
    }
}

#[tokio::test]
async fn a_bill_paid_inside_whatsapp_through_exotel_is_closed_by_its_proof() {
    let shop = Shop::with(|document| {
        document["channel"] = json!({"kind": "whatsapp", "provider": "exotel", "from": "+918045210677",
            "credentials": {"account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": TOKEN}});
        document["payment"]["mode"] = json!("payment_gateway");
        document["payment"]["configuration_name"] = json!("shop");
    });
    let mut draft = builders::draft(builders::bill());
    draft.contents.terms.mode = PaymentMode::PaymentGateway;
    shop.sell(draft).await;
    shop.world
        .http
        .answer(EXOTEL.whatsapp, (EXOTEL.taken)())
        // What is only hinted is asked for, and Razorpay knows of no link.
        .always(
            "razorpay.find_link",
            reply(200, &json!({"payment_links": []})),
        );
    shop.send().await;
    let calls = shop.world.http.calls();
    let sent: Value = serde_json::from_slice(&calls[0].body.clone().unwrap().1).unwrap();
    let notes = sent
        .pointer("/whatsapp/messages/0/content/interactive/action/parameters/payment_settings/0/payment_gateway/razorpay/notes")
        .unwrap();
    let amount = shop.order().bill().total.get();
    for (what, notes, amount) in [
        (
            "a name without a proof",
            json!({"chatbill_reference": "BM345A-12"}),
            amount,
        ),
        ("a proof of another amount", notes.clone(), amount - 1),
    ] {
        shop.webhook("razorpay", native_payment(&notes, amount))
            .await;
        let status = shop.order().payment_status();
        assert_eq!(status, PaymentStatus::Pending, "{what}");
    }
    shop.webhook("razorpay", native_payment(notes, amount))
        .await;
    assert_eq!(shop.order().payment_status(), PaymentStatus::Captured);
    // Its repetition changes nothing.
    let events = shop.order().events.len();
    shop.webhook("razorpay", native_payment(notes, amount))
        .await;
    assert_eq!(shop.order().events.len(), events);
    assert!(shop.order().holds.is_empty());
}
