use chatbill_domain::event::Event;
use chatbill_domain::http::Answer;
use chatbill_domain::ids::UserId;
use chatbill_domain::message::{Form, MessageKey};
use chatbill_domain::order::{Hold, MessageStatus, PaymentStatus};
use chatbill_domain::payment::PaymentMode;
use chatbill_domain::ports::{Contact, Created, HiddenContact};
use chatbill_domain::signature::hmac_sha256;
use chatbill_testkit::aws::FakeAws;
use chatbill_testkit::builders::{
    NOW, bill, bill_with, captured, draft, key, reference, tenant_json,
};
use chatbill_testkit::events;
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{
    FixedClock, MemoryOrders, MemoryQueue, MemoryTenants, ScriptedHttp, reply,
};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{World, bill_sent, meta_payment, razorpay_link, started};
use serde_json::{Value, json};

use super::*;

const FUNCTION: &str = "pg-webhook";
const LOOKUP: &str = "meta.lookup_payment";
const PAID: &str = "razorpay-payment-link-paid";

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

async fn post(world: &World, request: Request) -> Response<Body> {
    let answer = handle(&ports(world), request).await;
    answer.unwrap_or_else(|error| error.into_response("request-1"))
}

async fn send(world: &World, event: &str) -> u16 {
    let response = post(world, events::request(FUNCTION, event)).await;
    response.status().as_u16()
}

fn order(world: &World) -> chatbill_domain::order::Order {
    world.store.order(&key("acme", "BM345A-12")).unwrap()
}

fn native(document: &mut serde_json::Value) {
    document["payment"]["mode"] = json!("payment_gateway");
    document["payment"]["configuration_name"] = json!("acme-upi");
}

/// The bill went out.
async fn billed() -> World {
    let world = World::new();
    world.order(bill_sent()).await;
    world
}

/// The bill went out to be paid inside WhatsApp.
async fn billed_natively() -> World {
    let world = World::with(native);
    let mut draft = draft(bill());
    draft.contents.terms.mode = PaymentMode::PaymentGateway;
    world.order_of(draft, bill_sent().split_off(1)).await;
    world
}

/// The bill went out free-form, with a template standing by.
async fn billed_interactively() -> World {
    let world = World::with(|document| document["channel"]["form"] = json!("interactive"));
    let message = MessageKey::Invoice(1);
    let events = vec![
        started(),
        Event::Try {
            message: message.clone(),
            attempt: 1,
            form: Form::Interactive,
            fallback: true,
            sms: false,
        },
        Event::Sent {
            message,
            attempt: 1,
            id: "wamid.1".to_owned(),
            segments: None,
        },
    ];
    world.order(events).await;
    world
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        PAID,
        "razorpay-payment-link-paid-base64",
        "razorpay-function-url",
        "razorpay-payment-captured",
        "razorpay-payment-failed",
        "razorpay-link-expired",
        "razorpay-refund-processed",
        "razorpay-amount-off-by-one-paisa",
        "razorpay-unknown-order",
        "razorpay-signed-with-previous-secret",
        "razorpay-forged",
        "razorpay-unsigned",
        "razorpay-doubled-signature",
        "razorpay-unreadable",
        "razorpay-of-no-consequence",
        "another-tenants-signature",
        "unknown-tenant",
        "unknown-source",
        "webhook-of-no-known-vendor",
        "meta-verification",
        "meta-verification-wrong-token",
        "meta-delivered",
        "meta-several-changes",
        "meta-failed-131047",
        "meta-failed-131026",
        "meta-payment-captured",
        "meta-forged",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = match event {
            "meta-payment-captured" => billed_natively().await,
            "meta-failed-131047" => billed_interactively().await,
            _ => billed().await,
        };
        world
            .http
            .always(LOOKUP, reply(200, &meta_payment("BM345A-12")));
        // A payment that names its bill only in a note is asked about.
        world
            .http
            .always("razorpay.fetch_link", reply(200, &paid_link()));
        world
            .http
            .always("razorpay.list_refunds", reply(200, &json!({"items": []})));
        let response = post(&world, events::request(FUNCTION, event)).await;
        logs.assert_discreet();
        let alarms: Vec<String> = [
            "webhook_refused",
            "webhook_unreadable",
            "webhook_parked",
            "webhook_foreign",
            "order_held",
            "message_given_up",
        ]
        .into_iter()
        .filter(|event| logs.count(event) > 0)
        .map(str::to_owned)
        .collect();
        let recorded = json!({
            "answer": events::answer(&response),
            "effects": world.effects(),
            "alarms": alarms,
        });
        insta::assert_json_snapshot!(event, recorded);
    }
}

fn paid_link() -> serde_json::Value {
    json!({"id": "plink_QK0000000000l1", "reference_id": "BM345A-12", "status": "paid", "amount": 85_000, "currency": "INR",
        "payments": [{"payment_id": "pay_N1", "amount": 85_000, "status": "captured", "method": "upi", "created_at": 1_795_305_600}]})
}

#[tokio::test]
async fn a_payment_takes_two_round_trips() {
    let world = billed().await;
    assert_eq!(send(&world, PAID).await, 200);
    assert_eq!(world.network.round_trips(), ["store.append", "queue.send"]);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
}

#[tokio::test]
async fn a_duplicate_changes_nothing_and_sends_nothing_new() {
    let world = billed().await;
    send(&world, PAID).await;
    let before = order(&world);
    for again in [
        PAID,
        "razorpay-payment-link-paid-base64",
        "razorpay-payment-captured",
    ] {
        assert_eq!(send(&world, again).await, 200);
    }
    assert_eq!(order(&world).events, before.events);
    assert_eq!(world.queue.sent().len(), 1);
}

#[tokio::test]
async fn wherever_it_breaks_the_sender_comes_again_and_nothing_is_lost_or_doubled() {
    for how in [Break::Request, Break::Answer] {
        for trip in 0..2 {
            let world = billed().await;
            world.network.break_at(trip, how);
            let response = post(&world, events::request(FUNCTION, PAID)).await;
            assert_eq!(response.status(), 503, "{how:?} {trip}");
            assert!(response.headers().contains_key("retry-after"));
            events::assert_discreet(&response);
            assert_eq!(send(&world, PAID).await, 200);
            let order = order(&world);
            assert_eq!(order.payment_status(), PaymentStatus::Captured);
            assert_eq!(order.events.len(), 5, "{how:?} {trip}");
            assert_eq!(world.queue.sent().len(), 1, "{how:?} {trip}");
        }
    }
}

#[tokio::test]
async fn what_is_not_signed_rightly_gets_an_empty_401_and_leaves_no_trace() {
    for event in [
        "razorpay-forged",
        "razorpay-unsigned",
        "razorpay-doubled-signature",
        "another-tenants-signature",
        "meta-forged",
    ] {
        let (logs, _guard) = Logs::capture();
        let world = billed().await;
        let before = order(&world);
        let response = post(&world, events::request(FUNCTION, event)).await;
        assert_eq!(response.status(), 401, "{event}");
        assert!(matches!(response.body(), Body::Text(text) if text.is_empty()));
        assert_eq!(order(&world).events, before.events);
        assert!(world.network.round_trips().is_empty(), "{event}");
        assert_eq!(logs.count("webhook_refused"), 1);
    }
}

#[tokio::test]
async fn a_doubled_signature_is_no_signature_even_if_both_are_right() {
    let world = billed().await;
    let mut request = events::request(FUNCTION, PAID);
    let signature = request.headers()["x-razorpay-signature"].clone();
    request
        .headers_mut()
        .append("x-razorpay-signature", signature);
    assert_eq!(post(&world, request).await.status(), 401);
}

#[tokio::test]
async fn one_changed_byte_of_the_body_is_a_forgery() {
    let world = billed().await;
    let request = events::request_with(FUNCTION, PAID, |payload| {
        let body = payload["body"].as_str().unwrap();
        payload["body"] = json!(body.replace("\"upi\"", "\"upI\""));
    });
    assert_eq!(post(&world, request).await.status(), 401);
}

#[tokio::test]
async fn one_paisa_too_little_holds_the_order_and_tells_the_customer_nothing() {
    let (logs, _guard) = Logs::capture();
    let world = billed().await;
    assert_eq!(send(&world, "razorpay-amount-off-by-one-paisa").await, 200);
    let held = order(&world);
    assert_eq!(held.payment_status(), PaymentStatus::Pending);
    let holds: Vec<Hold> = held.holds.iter().map(|(hold, _, _)| *hold).collect();
    assert_eq!(holds, [Hold::AmountMismatch]);
    assert!(world.queue.sent().is_empty());
    assert_eq!(logs.count("order_held"), 1);
    // Told again, the alarm is not.
    assert_eq!(send(&world, "razorpay-amount-off-by-one-paisa").await, 200);
    assert_eq!(logs.count("order_held"), 1);
}

/// Field reports B02 and B03: the customer bears the fee, or the gateway has an offer. Which of the gateway's words comes first makes no
/// difference, and none of them is taken for money that is not ours.
#[tokio::test]
async fn a_fee_or_an_offer_pays_the_bill_in_any_sequence() {
    const CAPTURED: &str = "razorpay-payment-captured";
    for (payment, amount) in [
        (
            json!({"amount": 86_003, "fee": 1_003, "tax": 153, "fee_bearer": "customer"}),
            86_003,
        ),
        (json!({"amount": 80_000, "offer_id": "offer_1"}), 80_000),
    ] {
        for sequence in [
            vec![PAID],
            vec![CAPTURED],
            vec![PAID, CAPTURED],
            vec![CAPTURED, PAID, PAID, CAPTURED],
        ] {
            let (logs, _guard) = Logs::capture();
            let world = billed().await;
            let mut hooks = Vec::new();
            for event in &sequence {
                hooks.push(signed(event, |body| {
                    let mut hook: Value = serde_json::from_str(body).unwrap();
                    let entity = &mut hook["payload"]["payment"]["entity"];
                    for (name, value) in payment.as_object().unwrap() {
                        entity[name] = value.clone();
                    }
                    // The gateway is asked about the same payment.
                    let mut link = paid_link();
                    link["id"] = json!("plink_QK0000000000l1");
                    link["order_id"] = json!("order_QK1");
                    link["payments"][0]["payment_id"] = entity["id"].clone();
                    link["payments"][0]["amount"] = json!(amount);
                    let items = json!({"items": [entity]});
                    let http = &world.http;
                    http.always("razorpay.fetch_link", reply(200, &link));
                    http.always("razorpay.order_payments", reply(200, &items));
                    http.always("razorpay.list_refunds", reply(200, &json!({"items": []})));
                    hook.to_string()
                }));
            }
            for hook in hooks {
                assert_eq!(post(&world, hook).await.status(), 200);
            }
            let order = order(&world);
            assert_eq!(
                order.payment_status(),
                PaymentStatus::Captured,
                "{sequence:?} {amount}"
            );
            let paid = order.paid();
            assert_eq!(
                (paid.worth.get(), paid.received.get()),
                (85_000, amount),
                "{sequence:?}"
            );
            assert_eq!(order.refundable_amount().get(), amount.min(85_000));
            assert!(order.holds.is_empty(), "{sequence:?} {:?}", order.holds);
            assert_eq!(world.queue.sent().len(), 1, "told once");
            assert_eq!(logs.count("order_held"), 0);
        }
    }
}

#[tokio::test]
async fn what_is_verified_but_unreadable_is_acknowledged_and_alarmed() {
    let (logs, _guard) = Logs::capture();
    let world = billed().await;
    assert_eq!(send(&world, "razorpay-unreadable").await, 200);
    assert_eq!(logs.count("webhook_unreadable"), 1);
    logs.assert_discreet();
}

/// An event with another body, signed as its sender would.
fn signed(event: &str, change: impl FnOnce(&str) -> String) -> Request {
    events::request_with(FUNCTION, event, |payload| {
        let body = change(payload["body"].as_str().unwrap());
        let sign = |secret: &str| hex::encode(hmac_sha256(secret.as_bytes(), body.as_bytes()));
        let (header, value) = if event.starts_with("meta") {
            let mac = sign("test-app-secret");
            ("X-Hub-Signature-256", format!("sha256={mac}"))
        } else {
            ("X-Razorpay-Signature", sign("test-webhook-secret"))
        };
        payload["headers"][header] = json!(value);
        payload["body"] = json!(body);
    })
}

const OURS: &str = "106540352242922";

/// What Meta tells about one of an app's numbers, in the form of the recorded event.
fn about(number: &str, value: serde_json::Value) -> String {
    let mut value = value;
    value["metadata"] = json!({"phone_number_id": number});
    json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]})
        .to_string()
}

fn delivered(tag: &str) -> serde_json::Value {
    json!({"statuses": [{"id": "wamid.1", "status": "delivered", "timestamp": "1795305630", "biz_opaque_callback_data": tag}]})
}

/// Two tenants with numbers of one app: the same app secret, another number.
fn one_app() -> World {
    let mut world = World::new();
    let acme = chatbill_testkit::builders::tenant_with(|_| ());
    let bina = chatbill_testkit::builders::tenant_with(|document| {
        document["tenant_id"] = json!("bina");
        document["channel"]["credentials"]["phone_number_id"] = json!("222");
    });
    world.tenants = MemoryTenants::new([acme, bina]);
    world
}

/// The order that `bina` has under the same number as `acme`'s, and that its bill went out.
async fn order_of_bina(world: &World) {
    let mut draft = draft(bill());
    draft.key = key("bina", "BM345A-12");
    world.order_of(draft, bill_sent()).await;
}

fn delivery(world: &World, tenant: &str) -> MessageStatus {
    let order = world.store.order(&key(tenant, "BM345A-12")).unwrap();
    order.message(&MessageKey::Invoice(1)).unwrap().status
}

#[tokio::test]
async fn a_report_for_another_tenant_s_number_goes_to_that_tenant() {
    let (logs, _guard) = Logs::capture();
    let world = one_app();
    world.order(bill_sent()).await;
    order_of_bina(&world).await;
    let body = about("222", delivered("1:BM345A-12:invoice.1:1:bina"));
    let response = post(&world, signed("meta-delivered", |_| body)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(delivery(&world, "bina"), MessageStatus::Delivered);
    assert_eq!(delivery(&world, "acme"), MessageStatus::Sent);
    assert_eq!(logs.count("report_for_other_number"), 0);
}

#[tokio::test]
async fn nobody_speaks_for_a_tenant_under_another_s_secret() {
    // `bina` of the builders' world has an app of its own, and there is no `carl` at all.
    for (world, number, tag) in [
        (World::new(), OURS, "1:BM345A-12:invoice.1:1:bina"),
        (World::new(), "222", "1:BM345A-12:invoice.1:1:bina"),
        (one_app(), "333", "1:BM345A-12:invoice.1:1:bina"),
        (one_app(), "222", "1:BM345A-12:invoice.1:1"),
        (one_app(), "222", "1:BM345A-12:invoice.1:1:carl"),
    ] {
        let (logs, _guard) = Logs::capture();
        world.order(bill_sent()).await;
        order_of_bina(&world).await;
        let body = about(number, delivered(tag));
        let response = post(&world, signed("meta-delivered", |_| body)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            delivery(&world, "bina"),
            MessageStatus::Sent,
            "{number} {tag}"
        );
        assert_eq!(
            delivery(&world, "acme"),
            MessageStatus::Sent,
            "{number} {tag}"
        );
        assert_eq!(logs.count("report_for_other_number"), 1, "{number} {tag}");
        logs.assert_discreet();
    }
}

fn stop_by(user: &str, at: i64) -> serde_json::Value {
    json!({"contacts": [{"user_id": user}],
           "messages": [{"from_user_id": user, "id": "wamid.Y", "timestamp": at.to_string(), "type": "text", "text": {"body": "STOP"}}]})
}

/// Field report B17.
#[tokio::test]
async fn a_stop_by_a_hidden_number_counts_once_a_report_told_whose_it_is() {
    for stop_first in [false, true] {
        let (logs, _guard) = Logs::capture();
        let world = billed().await;
        let mut report = delivered("1:BM345A-12:invoice.1:1:acme");
        report["statuses"][0]["recipient_user_id"] = json!("IN.1A2B3C");
        let mut hooks = [
            about(OURS, report),
            about(OURS, stop_by("IN.1A2B3C", 1_795_305_700)),
        ];
        if stop_first {
            hooks.reverse();
        }
        for body in hooks
            .into_iter()
            .chain([about(OURS, stop_by("IN.9Z", 1_795_305_700))])
        {
            let response = post(&world, signed("meta-delivered", |_| body)).await;
            assert_eq!(response.status(), 200);
        }
        let contact = Contact {
            tenant: key("acme", "x").tenant,
            phone: order(&world).phone,
        };
        assert!(world.store.opted_out(&contact, NOW).await.unwrap());
        // The stranger's, and this customer's as long as nobody knew them.
        let unplaced = 1 + usize::from(stop_first);
        assert_eq!(logs.count("customer_wish_unplaced"), unplaced);
        logs.assert_discreet();
        assert!(logs.lines().iter().all(|line| !line.contains("1A2B3C")));
    }
}

#[tokio::test]
async fn a_corrected_number_is_not_learnt_from_an_old_report() {
    let world = billed().await;
    let resent = Event::Resend {
        number: 2,
        reference: reference("BM345A-12-2"),
        to: Some(chatbill_domain::contact::Msisdn::parse("+919812345678").unwrap()),
        key: None,
    };
    world.happen(&key("acme", "BM345A-12"), resent).await;
    let mut report = delivered("1:BM345A-12:invoice.1:1:acme");
    report["statuses"][0]["recipient_user_id"] = json!("IN.1A2B3C");
    post(&world, signed("meta-delivered", |_| about(OURS, report))).await;
    let hidden = HiddenContact {
        tenant: key("acme", "x").tenant,
        user: UserId::parse("IN.1A2B3C").unwrap(),
    };
    assert_eq!(world.store.whose(&hidden).await.unwrap(), None);
}

/// A webhook to a tenant of Exotel's, with the secret in its address.
fn to_exotel(token: &str, body: &serde_json::Value) -> Request {
    events::request_with(FUNCTION, PAID, |payload| {
        payload["path"] = json!("/webhooks/exotel/acme");
        payload["queryStringParameters"] = json!({"token": token});
        payload["multiValueQueryStringParameters"] = json!({"token": [token]});
        payload["headers"] = json!({"Content-Type": "application/json"});
        payload["multiValueHeaders"] = json!({"Content-Type": ["application/json"]});
        payload["body"] = json!(body.to_string());
    })
}

fn exotel(document: &mut serde_json::Value) {
    document["channel"] = json!({
        "kind": "whatsapp", "provider": "exotel", "from": "+918047109880",
        "credentials": {"account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": "a-token-in-the-address"},
    });
}

#[tokio::test]
async fn exotel_s_verification_is_answered_with_its_challenge() {
    let world = World::with(exotel);
    let asked = json!({"type": "verification", "challenge": "random_challenge_string"});
    let response = post(&world, to_exotel("a-token-in-the-address", &asked)).await;
    assert_eq!(response.status(), 200);
    let said: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(said, json!({"challenge": "random_challenge_string"}));
    let response = post(&world, to_exotel("another-token-altogether", &asked)).await;
    assert_eq!(response.status(), 401);
    assert!(world.network.round_trips().is_empty());
}

#[tokio::test]
async fn a_word_nobody_knows_is_counted_and_changes_nothing() {
    let (logs, _guard) = Logs::capture();
    let world = World::with(exotel);
    world.order(bill_sent()).await;
    let before = order(&world).events;
    let dlr = json!({"whatsapp": {"messages": [
        {"callback_type": "dlr", "sid": "s", "exo_detailed_status": "EX_NOBODY_KNOWS +919876543210", "exo_status_code": 30_099,
         "custom_data": "1:BM345A-12:invoice.1:1"},
        {"callback_type": "dlr", "sid": "s", "exo_detailed_status": "delivered", "custom_data": "1:BM345A-12:invoice.1:1"}]}});
    let response = post(&world, to_exotel("a-token-in-the-address", &dlr)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(logs.count("delivery_word_unknown"), 1);
    logs.assert_discreet();
    assert_eq!(order(&world).events.len(), before.len() + 1);
}

#[tokio::test]
async fn a_webhook_may_be_larger_than_a_bill() {
    let world = billed().await;
    let padding = " ".repeat(api::LARGEST_BODY);
    let request = signed(PAID, |body| format!("{body}{padding}"));
    assert_eq!(post(&world, request).await.status(), 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
}

#[tokio::test]
async fn a_payment_of_an_unknown_order_is_kept_as_a_hint() {
    let (logs, _guard) = Logs::capture();
    let world = billed().await;
    assert_eq!(send(&world, "razorpay-unknown-order").await, 200);
    assert_eq!(logs.count("webhook_parked"), 1);
    assert_eq!(world.store.parked(&key("acme", "BM345A-99")), 1);
    let bill = bill_with(|document| document["reference_id"] = json!("BM345A-99"));
    let Created::New(order) = world.store.create(&draft(bill)).await.unwrap() else {
        panic!("not new");
    };
    assert_eq!(order.payment_status(), PaymentStatus::Pending);
    assert!(order.is_hinted() && order.messages.is_empty());
}

#[tokio::test]
async fn a_failed_attempt_after_the_payment_changes_nothing() {
    let world = billed().await;
    let open = json!({"id": "plink_QK0000000000l1", "reference_id": "BM345A-12", "status": "created", "amount": 85_000,
        "currency": "INR", "order_id": "order_QK0000000000o1", "payments": []});
    let failed = json!({"items": [{"id": "pay_QK0000000000p0", "amount": 85_000, "currency": "INR", "status": "failed",
        "captured": false, "method": "upi"}]});
    world.http.always("razorpay.fetch_link", reply(200, &open));
    world
        .http
        .always("razorpay.order_payments", reply(200, &failed));
    // Only a note names the bill, so our link is asked.
    send(&world, "razorpay-payment-failed").await;
    assert_eq!(order(&world).payment_status(), PaymentStatus::Failed);
    send(&world, PAID).await;
    send(&world, "razorpay-payment-failed").await;
    send(&world, "razorpay-link-expired").await;
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    assert_eq!(world.queue.sent().len(), 1);
}

#[tokio::test]
async fn money_after_the_end_is_held_and_money_before_it_counts_however_late_the_news() {
    let world = billed().await;
    world.clock.set(NOW.plus_seconds(60));
    send(&world, "razorpay-link-expired").await;
    assert_eq!(send(&world, PAID).await, 200);
    let late = order(&world);
    assert_eq!(late.payment_status(), PaymentStatus::Expired);
    let holds: Vec<Hold> = late.holds.iter().map(|(hold, _, _)| *hold).collect();
    assert_eq!(holds, [Hold::LatePayment]);
    assert!(world.queue.sent().is_empty());

    let world = billed().await;
    world.clock.set(NOW.plus_seconds(1895));
    send(&world, "razorpay-link-expired").await;
    assert_eq!(send(&world, PAID).await, 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    assert!(order(&world).holds.is_empty());
}

#[tokio::test]
async fn a_payment_inside_whatsapp_is_believed_after_asking() {
    let world = billed_natively().await;
    world
        .http
        .answer(LOOKUP, Answer::Lost("time-out".to_owned()));
    assert_eq!(send(&world, "meta-payment-captured").await, 503);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);

    let nothing = json!({"payments": [{"reference_id": "BM345A-12", "status": "pending", "amount": {"value": 85_000, "offset": 100},
        "currency": "INR", "transactions": []}]});
    world.http.reply(LOOKUP, 200, &nothing);
    assert_eq!(send(&world, "meta-payment-captured").await, 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);

    world
        .http
        .always(LOOKUP, reply(200, &meta_payment("BM345A-12")));
    assert_eq!(send(&world, "meta-payment-captured").await, 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    // The gateway's own word about the same payment is no second one.
    assert_eq!(send(&world, PAID).await, 200);
    assert_eq!(world.queue.sent().len(), 1);
    assert!(order(&world).holds.is_empty());
}

#[tokio::test]
async fn a_bill_sent_twice_inside_whatsapp_can_be_paid_in_either_message() {
    let again = Event::Resend {
        number: 2,
        reference: reference("BM345A-12-2"),
        to: None,
        key: None,
    };
    // In the first: the webhook names the bill, which may mean any of its messages.
    let world = billed_natively().await;
    let alias = reference("BM345A-12-2");
    let bill = key("acme", "BM345A-12");
    assert!(world.store.alias(&alias, &bill).await.unwrap());
    world.happen(&bill, again.clone()).await;
    let unknown = json!({"error": {"message": "(#100) Invalid parameter", "code": 100}});
    world.http.reply(LOOKUP, 400, &unknown);
    world.http.reply(LOOKUP, 200, &meta_payment("BM345A-12"));
    assert_eq!(send(&world, "meta-payment-captured").await, 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    assert_eq!(world.http.left_over(), 0);
    // And then in the second, too: that money is not overlooked.
    let mut second = meta_payment("BM345A-12-2");
    second["payments"][0]["transactions"][0]["pg_transaction_id"] = json!("pay_2");
    world.http.reply(LOOKUP, 200, &second);
    let request = signed("meta-payment-captured", |body| {
        body.replace("\"BM345A-12\"", "\"BM345A-12-2\"")
            .replace("pay_QK0000000000p1", "pay_2")
    });
    assert_eq!(post(&world, request).await.status(), 200);
    let holds: Vec<Hold> = order(&world)
        .holds
        .iter()
        .map(|(hold, _, _)| *hold)
        .collect();
    assert_eq!(holds, [Hold::DoublePayment]);

    // In the second: the webhook names that message.
    let world = billed_natively().await;
    assert!(world.store.alias(&alias, &bill).await.unwrap());
    world.happen(&bill, again).await;
    world.http.reply(LOOKUP, 200, &meta_payment("BM345A-12-2"));
    let request = signed("meta-payment-captured", |body| {
        body.replace("\"BM345A-12\"", "\"BM345A-12-2\"")
    });
    assert_eq!(post(&world, request).await.status(), 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    assert_eq!(world.http.left_over(), 0);
}

#[tokio::test]
async fn a_closed_window_reported_later_queues_the_template_once() {
    let world = billed_interactively().await;
    assert_eq!(send(&world, "meta-failed-131047").await, 200);
    let message = order(&world).messages[0].clone();
    assert_eq!(
        (message.status, message.template_next),
        (MessageStatus::Queued, true)
    );
    assert_eq!(world.queue.sent().len(), 1);
    assert_eq!(world.queue.sent()[0].attempt, 1);
    assert_eq!(send(&world, "meta-failed-131047").await, 200);
    assert_eq!(world.queue.sent().len(), 1);
}

#[tokio::test]
async fn delivery_reports_raise_the_state_in_whatever_order_they_come() {
    let world = billed().await;
    let report = |word: &str| {
        let word = format!("\"{word}\"");
        signed("meta-delivered", |body| {
            body.replace("\"delivered\"", &word)
        })
    };
    for (word, then) in [
        ("read", MessageStatus::Read),
        ("delivered", MessageStatus::Read),
        ("sent", MessageStatus::Read),
        ("failed", MessageStatus::Read),
    ] {
        assert_eq!(post(&world, report(word)).await.status(), 200, "{word}");
        assert_eq!(order(&world).messages[0].status, then, "{word}");
    }
    assert!(world.queue.sent().is_empty());
}

#[tokio::test]
async fn a_poisoned_neighbour_in_one_webhook_holds_nothing_up() {
    let world = billed().await;
    world.order_named("BM345A-13", bill_sent()).await;
    // The first of its three reports cannot be stored.
    world.network.break_at(0, Break::Request);
    assert_eq!(send(&world, "meta-several-changes").await, 503);
    let other = world.store.order(&key("acme", "BM345A-13")).unwrap();
    assert_eq!(other.messages[0].status, MessageStatus::Read);
    assert_eq!(send(&world, "meta-several-changes").await, 200);
    assert_eq!(order(&world).messages[0].status, MessageStatus::Delivered);
}

/// Field report B01: one Razorpay account serves several shops, and sends every event to every configured URL.
fn of_another_link(notes: &serde_json::Value) -> Request {
    let body = json!({"event": "payment_link.paid", "payload": {
        "payment_link": {"entity": {"id": "plink_FOREIGN1", "reference_id": "BM345A-12", "amount": 85_000, "status": "paid",
            "notes": notes}},
        "payment": {"entity": {"id": "pay_FOREIGN1", "amount": 85_000, "currency": "INR", "status": "captured", "captured": true,
            "method": "upi", "created_at": 1_780_000_000, "notes": notes}}}});
    signed(PAID, |_| body.to_string())
}

#[tokio::test]
async fn another_shops_link_with_our_number_pays_nothing() {
    let world = billed().await;
    world.http.always(
        "razorpay.fetch_link",
        reply(200, &razorpay_link("BM345A-12", "created")),
    );
    // The dashboard's, one with our note on it, and one with our mark of another order.
    let mark = chatbill_testkit::world::mark("BM345A-99");
    for notes in [
        json!([]),
        json!({"chatbill_reference": "BM345A-12"}),
        json!({"chatbill_reference": "BM345A-12", "chatbill_mark": mark}),
    ] {
        assert_eq!(post(&world, of_another_link(&notes)).await.status(), 200);
        assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);
        assert!(order(&world).strays.is_empty() && order(&world).holds.is_empty());
    }
    let ours = "/v1/payment_links/plink_QK0000000000l1";
    assert!(!world.http.calls().is_empty());
    assert!(world.http.calls().iter().all(|c| c.url.ends_with(ours)));
}

#[tokio::test]
async fn another_tenants_mark_is_counted_and_costs_nothing() {
    let (logs, _guard) = Logs::capture();
    let world = billed().await;
    let others = chatbill_testkit::world::mark("BM345A-12").replace("acme.", "bina.");
    let notes = json!({"chatbill_reference": "BM345A-12", "chatbill_mark": others});
    assert_eq!(post(&world, of_another_link(&notes)).await.status(), 200);
    assert!(world.network.round_trips().is_empty());
    assert_eq!(logs.count("webhook_foreign"), 1);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);
}

#[tokio::test]
async fn our_links_id_is_enough_where_its_notes_are_gone() {
    let world = billed().await;
    let request = signed(PAID, |body| body.replace("chatbill_mark", "counter"));
    assert_eq!(post(&world, request).await.status(), 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    assert_eq!(
        world.network.round_trips(),
        ["store.load", "store.append", "queue.send"]
    );
}

#[tokio::test]
async fn an_event_before_the_link_is_recorded_is_a_hint() {
    let world = World::new();
    world.order(Vec::new()).await;
    for _ in 0..2 {
        assert_eq!(
            post(&world, of_another_link(&json!([]))).await.status(),
            200
        );
    }
    let order = order(&world);
    assert_eq!(order.payment_status(), PaymentStatus::Pending);
    assert!(order.is_hinted() && order.events.len() == 2);
    assert!(order.due.unwrap() <= world.clock.now().plus_seconds(60));
    assert!(world.http.labels().is_empty());
}

#[tokio::test]
async fn a_link_never_pays_a_bill_that_is_paid_inside_whatsapp() {
    let world = billed_natively().await;
    world.http.always(
        LOOKUP,
        reply(200, &json!({"payments": [{"reference_id": "BM345A-12", "status": "pending", "transactions": []}]})),
    );
    post(&world, of_another_link(&json!([]))).await;
    assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);
    assert!(world.http.labels().iter().all(|label| *label == LOOKUP));
}

#[tokio::test]
async fn a_failed_payment_of_no_order_takes_no_name() {
    let world = billed().await;
    let failed = signed("razorpay-payment-failed", |body| {
        body.replace("BM345A-12", "BM345A-12-2")
    });
    assert_eq!(post(&world, failed).await.status(), 200);
    let home = key("acme", "BM345A-12");
    let second = reference("BM345A-12-2");
    assert_eq!(world.store.parked(&key("acme", "BM345A-12-2")), 0);
    assert!(world.store.alias(&second, &home).await.unwrap());
}

/// The bill was made with an account the tenant has left since: what that account still sends counts.
#[tokio::test]
async fn the_webhook_of_an_earlier_account_still_counts() {
    let currents = [
        json!({"mode": "payment_link", "gateway": "razorpay",
            "credentials": {"key_id": "rzp_test_2", "key_secret": "s", "webhook_secrets": ["another"]}}),
        json!({"mode": "payment_gateway", "configuration_name": "acme-upi", "gateway": "razorpay",
            "credentials": {"key_id": "rzp_test_1", "key_secret": "s", "webhook_secrets": ["another"]}}),
        json!({"mode": "payment_link", "gateway": "zaakpay", "credentials": {
            "merchant_identifier": "m1", "secret_keys": ["0123456789abcdef0123456789abcdef"], "buyer_email": "pay@shop.example"}}),
    ];
    for current in currents {
        let world = World::with(|document| {
            let before = document["payment"].clone();
            document["payment"] = current.clone();
            document["payment"]["previous"] = json!([before]);
        });
        world.order(bill_sent()).await;
        assert_eq!(send(&world, PAID).await, 200, "{current}");
        assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
        assert_eq!(send(&world, "razorpay-forged").await, 401, "{current}");
    }
}

/// A bill that went out to be paid inside WhatsApp is paid although the tenant makes links by now.
#[tokio::test]
async fn a_native_proof_counts_after_the_mode_has_changed() {
    let world = World::new();
    let mut draft = draft(bill());
    draft.contents.terms.mode = PaymentMode::PaymentGateway;
    world.order_of(draft, bill_sent().split_off(1)).await;
    let proofs = chatbill_testkit::builders::tenant().payment.proofs;
    let proof = proofs.issue(&bill().reference, bill().total).unwrap();
    let request = signed("razorpay-payment-captured", |body| {
        let notes = r#""notes":{"chatbill_reference":"BM345A-12""#;
        body.replace(notes, &format!(r#"{notes},"chatbill_proof":"{proof}""#))
    });
    assert_eq!(post(&world, request).await.status(), 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    assert!(world.http.labels().is_empty());
}

/// Both receipt secrets were changed since: the link's id is still the one the order was given.
#[tokio::test]
async fn a_payment_counts_after_the_receipt_secrets_have_changed() {
    let world = World::with(|document| {
        document["receipt_secrets"] = json!(["a-new-secret-0001", "a-new-secret-0002"]);
    });
    world.order(bill_sent()).await;
    assert_eq!(send(&world, PAID).await, 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
}

/// Exotel has no question about a payment to answer, so the gateway is asked; only money it knows of counts.
#[tokio::test]
async fn a_payment_nobody_can_confirm_leaves_the_order_open() {
    let world = World::with(|document| {
        native(document);
        document["channel"]["provider"] = json!("exotel");
        document["channel"]["credentials"] = json!({
            "account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": "secret-of-the-address"});
        document["channel"]
            .as_object_mut()
            .unwrap()
            .remove("templates");
    });
    let mut draft = draft(bill());
    draft.contents.terms.mode = PaymentMode::PaymentGateway;
    world.order_of(draft, bill_sent().split_off(1)).await;
    let hook = |token: &str| {
        let token = token.to_owned();
        events::request_with(FUNCTION, PAID, move |payload| {
            payload["path"] = json!("/webhooks/exotel/acme");
            payload["queryStringParameters"] = json!({"token": token});
            payload["multiValueQueryStringParameters"] = json!({"token": [token]});
            let body = json!({
                "event": "payment_status", "message_id": "m1", "reference_id": "BM345A-12", "payment_status": "captured",
                "amount": {"value": 85_000, "offset": 100, "currency": "INR"}, "transaction_id": "txn_1"});
            payload["body"] = json!(body.to_string());
        })
    };
    assert_eq!(post(&world, hook("another")).await.status(), 401);

    // Razorpay documents no search for it, and a link with the same number is somebody else's: nobody is asked.
    post(&world, hook("secret-of-the-address")).await;
    assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);
    assert!(world.http.labels().is_empty());

    // A note that proves nothing is no money either.
    let captured = |proof: String| {
        signed("razorpay-payment-captured", move |body| {
            let notes = r#""notes":{"chatbill_reference":"BM345A-12"}"#;
            let proven = format!(
                r#""notes":{{"chatbill_reference":"BM345A-12","chatbill_proof":"{proof}"}}"#
            );
            body.replace(notes, &proven)
        })
    };
    post(&world, captured("0".repeat(64))).await;
    assert_eq!(order(&world).payment_status(), PaymentStatus::Pending);

    // The gateway's own signed word with our proof needs no question.
    let proofs = chatbill_testkit::builders::tenant().payment.proofs;
    let proof = proofs.issue(&bill().reference, bill().total).unwrap();
    assert_eq!(post(&world, captured(proof)).await.status(), 200);
    assert_eq!(order(&world).payment_status(), PaymentStatus::Captured);
    assert!(world.http.labels().is_empty());
}

#[tokio::test]
async fn a_refund_made_in_the_dashboard_appears_and_is_told_once() {
    let world = billed().await;
    world
        .happen(
            &key("acme", "BM345A-12"),
            Event::Payment(captured(&bill(), "pay_1")),
        )
        .await;
    // A note is no proof of the bill, so Razorpay is asked: the link, and the refunds of its payment.
    let mut link = razorpay_link("BM345A-12", "paid");
    link["payments"][0]["payment_id"] = json!("pay_1");
    world.http.always("razorpay.fetch_link", reply(200, &link));
    let refund = json!({"id": "rfnd_1", "entity": "refund", "amount": 10_000, "currency": "INR", "payment_id": "pay_1",
        "status": "processed", "speed_processed": "normal", "notes": [], "receipt": null,
        "acquirer_data": {"arn": "74000000001"}, "created_at": 1_795_305_700});
    world.http.always(
        "razorpay.list_refunds",
        reply(200, &json!({"items": [refund]})),
    );
    for _ in 0..2 {
        assert_eq!(send(&world, "razorpay-refund-processed").await, 200);
    }
    let order = order(&world);
    assert_eq!(order.refunded_amount().get(), 10_000);
    assert_eq!(
        order.refunds.list()[0].bank_reference.as_deref(),
        Some("74000000001")
    );
    assert_eq!(order.payment_status(), PaymentStatus::PartiallyRefunded);
    let told = order
        .messages
        .iter()
        .filter(|m| matches!(m.key, MessageKey::Refund(_)));
    assert_eq!(told.count(), 1);
}

/// What a stranger sends: to merchants that there are not, and to one there is, with a signature or token that was made up.
fn by_a_stranger(n: usize) -> Request {
    let sources = [
        "razorpay", "payu", "zaakpay", "billdesk", "meta", "exotel", "kaleyra",
    ];
    let source = sources.iter().cycle().nth(n % 7).copied().unwrap();
    let (source, tenant) = match n % 4 {
        0 => ("razorpay", "acme".to_owned()),
        1 => ("meta", "acme".to_owned()),
        _ => (source, format!("made-up-{n}")),
    };
    let forged = hex::encode(hmac_sha256(b"guessed", &n.to_be_bytes()));
    let path = format!("/webhooks/{source}/{tenant}?token={forged}");
    let request = lambda_http::http::Request::builder()
        .method(if n % 8 == 1 { "GET" } else { "POST" })
        .uri(&path)
        .header("content-type", "application/json")
        .header("x-razorpay-signature", &forged)
        .header("x-hub-signature-256", format!("sha256={forged}"))
        .body(Body::Text(format!(
            "{{\"event\": \"payment_link.paid\", \"n\": {n}}}"
        )))
        .unwrap();
    request.with_raw_http_path(path.split('?').next().unwrap())
}

#[tokio::test]
async fn a_hundred_thousand_forgeries_cost_a_handful_of_calls() {
    let (aws, endpoint) = FakeAws::start().await;
    aws.put("/chatbill/test/tenants/acme", &tenant_json());
    let credentials = chatbill_store::Credentials::new("test", "test", None, None, "test");
    let config =
        chatbill_store::configured("ap-south-1".to_owned(), credentials, Some(endpoint.clone()));
    let http = ScriptedHttp::default();
    let ports = Ports {
        store: chatbill_store::DynamoOrders::new(&config, "orders"),
        queue: chatbill_store::SqsQueue::new(&config, format!("{endpoint}/queue")),
        tenants: chatbill_store::SsmTenants::new(
            &config,
            "/chatbill/test/tenants",
            true,
            |_| Ok(()),
            FixedClock::default(),
        ),
        http: http.clone(),
        clock: FixedClock::default(),
    };
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for n in 0..100_000 {
        let answer = handle(&ports, by_a_stranger(n)).await;
        let answer = answer.unwrap_or_else(|error| error.into_response("request-1"));
        *statuses.entry(answer.status().as_u16()).or_default() += 1;
    }
    assert_eq!(
        statuses,
        [(401, 37_500), (403, 12_500), (404, 50_000)].into()
    );
    let calls = aws.calls();
    assert!(
        calls.keys().all(|call| call.starts_with("AmazonSSM.")),
        "{calls:?}"
    );
    assert!(calls.values().sum::<usize>() <= 6, "{calls:?}");
    assert!(http.labels().is_empty());
}
