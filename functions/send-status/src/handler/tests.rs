use aws_lambda_events::event::sqs::SqsEvent;
use chatbill_domain::connector::Wish;
use chatbill_domain::event::Event;
use chatbill_domain::http::Answer;
use chatbill_domain::message::{Form, Fulfilment, MessageKey, Progress, Remedy, Report};
use chatbill_domain::money::Paise;
use chatbill_domain::order::{MessageStatus, Order};
use chatbill_domain::pace::Pace;
use chatbill_domain::payment::PaymentReport;
use chatbill_domain::ports::{Contact, Queue};
use chatbill_runtime::batch;
use chatbill_testkit::builders::{bill, bill_with, captured, draft, key, reference};
use chatbill_testkit::events;
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{
    FixedClock, MemoryDeadLetters, MemoryOrders, MemoryQueue, MemoryTenants, Received,
    ScriptedHttp, SeededRandom,
};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{World, bill_sent, meta_accepted, meta_error, started};
use serde_json::{Value, json};

use super::*;

const FUNCTION: &str = "send-status";
const SEND: &str = "meta.send_message";

type InMemory = Ports<
    MemoryOrders,
    MemoryQueue,
    MemoryDeadLetters,
    MemoryTenants,
    ScriptedHttp,
    FixedClock,
    SeededRandom,
>;

fn ports(world: &World) -> InMemory {
    Ports {
        store: world.store.clone(),
        visibility: world.queue.clone(),
        dead_letters: world.dead_letters.clone(),
        tenants: world.tenants.clone(),
        http: world.http.clone(),
        clock: world.clock.clone(),
        random: SeededRandom::new(1),
        pace: Pace::new(1),
    }
}

/// The ids of the messages that must come again.
async fn run(world: &World, event: SqsEvent) -> Vec<String> {
    let ports = ports(world);
    let response = batch::handle(
        event,
        |message| handle(&ports, message),
        |message, seconds| super::hold_back(&ports, message, seconds),
    )
    .await;
    let failures = response.unwrap().batch_item_failures;
    failures.into_iter().map(|f| f.item_identifier).collect()
}

async fn send(world: &World, event: &str) -> Vec<String> {
    run(world, events::batch(FUNCTION, event)).await
}

/// What Lambda would hand out next: the queue's next message, deleted when it was handled.
async fn next(world: &World) -> Option<Handled> {
    let received = world.queue.receive()?;
    let handled = handle(&ports(world), sqs(&received)).await;
    if handled == Handled::Done {
        world.queue.delete(&received.receipt);
    }
    Some(handled)
}

fn sqs(received: &Received) -> SqsMessage {
    let mut message = SqsMessage::default();
    message.message_id = Some("message-1".to_owned());
    message.receipt_handle = Some(received.receipt.clone());
    message.body = Some(serde_json::to_string(&received.task).unwrap());
    let attributes = [
        ("ApproximateReceiveCount", received.count.to_string()),
        ("MessageGroupId", received.task.group()),
    ];
    message
        .attributes
        .extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    message
}

fn order(world: &World) -> Order {
    world.store.order(&key("acme", "BM345A-12")).unwrap()
}

fn invoice(world: &World) -> chatbill_domain::order::Message {
    order(world).messages[0].clone()
}

/// The bodies of the calls to the provider.
fn said(world: &World) -> Vec<Value> {
    let calls = world.http.calls();
    calls
        .iter()
        .map(|call| serde_json::from_slice(&call.body.as_ref().unwrap().1).unwrap())
        .collect()
}

/// An order whose link is made and whose invoice is queued.
async fn queued(change: impl FnOnce(&mut Value)) -> World {
    let world = World::with(change);
    let order = world.order(vec![started()]).await;
    let task = chatbill_domain::flows::task(&order.key, &order.messages[0]);
    world.queue.send(&task).await.unwrap();
    world.network.reset();
    world
}

fn interactive(document: &mut Value) {
    document["channel"]["form"] = json!("interactive");
}

fn lost() -> Answer {
    Answer::Lost("time-out".to_owned())
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        "invoice",
        "paid",
        "two-orders",
        "two-messages-of-one-order",
        "invoice-second-delivery",
        "poison-between-neighbours",
        "unknown-version",
        "unknown-tenant",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = World::new();
        let mut history = vec![started()];
        match event {
            "paid" => {
                history = bill_sent();
                history.push(Event::Payment(captured(&bill(), "pay_1")));
            }
            "two-messages-of-one-order" => {
                history.push(Event::Fulfilment {
                    to: Fulfilment::Shipped,
                    description: None,
                });
                world
                    .http
                    .answer(SEND, meta_error(500, 131_016, "Service unavailable"));
            }
            // The first delivery crashed while it talked to the provider.
            "invoice-second-delivery" => history.push(Event::Try {
                message: MessageKey::Invoice(1),
                attempt: 1,
                form: Form::Template,
                fallback: false,
                sms: false,
            }),
            "two-orders" | "poison-between-neighbours" => {
                world.order_named("BM345A-13", vec![started()]).await;
            }
            _ => {}
        }
        world.order(history).await;
        world.http.always(SEND, meta_accepted("wamid.1"));
        let failures = send(&world, event).await;
        logs.assert_discreet();
        let recorded =
            json!({"come_again": failures, "effects": world.effects(), "said": said(&world)});
        insta::assert_json_snapshot!(event, recorded);
    }
}

#[tokio::test]
async fn a_message_takes_three_round_trips() {
    let world = queued(|_| ()).await;
    world.http.answer(SEND, meta_accepted("wamid.1"));
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(
        world.network.round_trips(),
        ["store.append", SEND, "store.append"]
    );
    assert_eq!(invoice(&world).status, MessageStatus::Sent);
}

#[tokio::test]
async fn the_same_task_again_sends_nothing() {
    let world = queued(|_| ()).await;
    world.http.answer(SEND, meta_accepted("wamid.1"));
    send(&world, "invoice").await;
    assert!(send(&world, "invoice").await.is_empty());
    assert!(send(&world, "invoice-second-delivery").await.is_empty());
    assert_eq!(world.http.labels(), [SEND]);
}

#[tokio::test]
async fn a_poison_message_is_put_away_and_its_neighbours_are_delivered() {
    let (logs, _guard) = Logs::capture();
    let world = queued(|_| ()).await;
    world.order_named("BM345A-13", vec![started()]).await;
    world.http.always(SEND, meta_accepted("wamid.1"));
    assert!(send(&world, "poison-between-neighbours").await.is_empty());
    assert_eq!(world.http.labels(), [SEND, SEND]);
    let letters = world.dead_letters.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].body.as_str(), letters[0].group.as_str()),
        ("{\"v\":1,\"tenant_id\":\"acme\"", "acme:poison")
    );
    assert_eq!(logs.count("message_buried"), 1);
}

#[tokio::test]
async fn what_cannot_be_put_away_comes_again() {
    let world = World::new();
    world.network.break_at(0, Break::Request);
    assert_eq!(send(&world, "unknown-version").await.len(), 1);
    assert!(send(&world, "unknown-version").await.is_empty());
    assert_eq!(world.dead_letters.letters().len(), 1);
}

#[tokio::test]
async fn a_closed_window_is_answered_with_the_template_at_once() {
    let world = queued(interactive).await;
    world
        .http
        .answer(SEND, meta_error(400, 131_047, "Re-engagement message"));
    world.http.answer(SEND, meta_accepted("wamid.2"));
    assert_eq!(next(&world).await, Some(Handled::Done));
    let kinds: Vec<Value> = said(&world)
        .iter()
        .map(|body| body["type"].clone())
        .collect();
    assert_eq!(kinds, ["interactive", "template"]);
    let message = invoice(&world);
    assert_eq!((message.status, message.attempts), (MessageStatus::Sent, 2));
    assert!(world.queue.postponed().is_empty());

    // The template is sent once: a second refusal is the end.
    let (logs, _guard) = Logs::capture();
    let world = queued(interactive).await;
    world
        .http
        .always(SEND, meta_error(400, 131_047, "Re-engagement message"));
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels().len(), 2);
    assert_eq!(invoice(&world).status, MessageStatus::Failed);
    assert_eq!(logs.count("message_given_up"), 1);
}

#[tokio::test]
async fn a_lost_answer_waits_for_the_report_and_is_then_repeated_with_the_same_reference() {
    let (logs, _guard) = Logs::capture();
    let world = queued(|_| ()).await;
    world.http.answer(SEND, lost());
    assert!(matches!(next(&world).await, Some(Handled::Again(_))));
    assert_eq!(invoice(&world).status, MessageStatus::Unknown);
    let wait = world.queue.postponed()[0].1;
    assert!(wait >= 120, "{wait}");
    // Another copy of the task before that time does not send.
    assert_eq!(send(&world, "invoice-second-delivery").await.len(), 1);
    assert_eq!(world.http.labels(), [SEND]);

    world.clock.advance(wait.into());
    world.http.answer(SEND, meta_accepted("wamid.2"));
    assert_eq!(next(&world).await, Some(Handled::Done));
    let said = said(&world);
    let references: Vec<bool> = said
        .iter()
        .map(|body| body.to_string().contains("\"reference_id\":\"BM345A-12\""))
        .collect();
    assert_eq!(references, [true, true]);
    let tags: Vec<&Value> = said
        .iter()
        .map(|body| &body["biz_opaque_callback_data"])
        .collect();
    assert_eq!(
        tags,
        [
            "1:BM345A-12:invoice.1:1:acme",
            "1:BM345A-12:invoice.1:2:acme"
        ]
    );
    logs.assert_discreet();
}

/// Field report B23: accepted, and failed later because the header's link could not be fetched.
#[tokio::test]
async fn a_header_that_fails_twice_is_left_out() {
    let world = World::with(|document| {
        document["channel"]
            .as_object_mut()
            .unwrap()
            .remove("templates");
    });
    let bill = bill_with(|document| {
        document["header"] =
            json!({"type": "image", "image": {"link": "https://shop.example/header.png"}})
    });
    world.order_of(draft(bill), vec![started()]).await;
    let task = |attempt| chatbill_domain::ports::DeliverTask {
        v: 1,
        tenant_id: key("acme", "x").tenant,
        reference_id: reference("BM345A-12"),
        message: MessageKey::Invoice(1),
        attempt,
    };
    let media = |attempt: u32| Event::Report {
        message: MessageKey::Invoice(1),
        attempt,
        report: Report::Failed(chatbill_domain::message::SendFailure {
            remedy: Remedy::Media,
            code: "131053".to_owned(),
            detail: String::new(),
        }),
    };
    for attempt in 1..=4 {
        world.queue.send(&task(attempt - 1)).await.unwrap();
        world.http.answer(SEND, meta_accepted("wamid.1"));
        next(&world).await;
        world
            .happen(&key("acme", "BM345A-12"), media(attempt))
            .await;
        world.clock.advance(310);
    }
    let with_header: Vec<bool> = said(&world)
        .iter()
        .map(|body| body["interactive"].get("header").is_some())
        .collect();
    assert_eq!(with_header, [true, true, false], "and no fourth try");
}

#[tokio::test]
async fn a_lost_answer_is_not_repeated_when_the_report_comes() {
    let world = queued(|_| ()).await;
    world.http.answer(SEND, lost());
    next(&world).await;
    let report = Event::Report {
        message: MessageKey::Invoice(1),
        attempt: 1,
        report: Report::Progress(Progress::Delivered),
    };
    world.happen(&key("acme", "BM345A-12"), report).await;
    world.clock.advance(600);
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels(), [SEND]);
}

#[tokio::test]
async fn a_crash_after_the_provider_took_it_is_treated_like_a_lost_answer() {
    let world = queued(|_| ()).await;
    world.http.always(SEND, meta_accepted("wamid.1"));
    world.network.crash_at(2, Break::Request);
    assert!(matches!(next(&world).await, Some(Handled::Again(_))));
    world.network.restore();
    assert_eq!(send(&world, "invoice-second-delivery").await.len(), 1);
    assert_eq!(world.http.labels(), [SEND], "not repeated blindly");
    world.clock.advance(360);
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels(), [SEND, SEND]);
}

#[tokio::test]
async fn a_provider_that_is_down_is_asked_again_on_the_schedule() {
    let world = queued(|_| ()).await;
    let schedule = &chatbill_domain::delivery::SCHEDULE[..4];
    for (number, seconds) in schedule.iter().enumerate() {
        let down = Answer::NotSent("connection refused".to_owned());
        world.http.answer(SEND, down);
        assert!(matches!(next(&world).await, Some(Handled::Again(_))));
        assert_eq!(world.queue.receive(), None, "held back");
        let wait = world.queue.postponed()[number].1;
        assert!(
            wait.abs_diff(*seconds) <= seconds / 5,
            "{wait} for {seconds}"
        );
        assert_eq!(invoice(&world).status, MessageStatus::Retrying);
        world.clock.advance(wait.into());
        if number == 2 {
            // The provider's own wish is longer than the schedule.
            let busy = chatbill_domain::http::HttpReply {
                status: 429,
                retry_after: Some(900),
                body: Vec::new(),
            };
            world.http.answer(SEND, Answer::Reply(busy));
            assert!(matches!(next(&world).await, Some(Handled::Again(_))));
            let wait = world.queue.postponed()[3].1;
            assert!(wait >= 900, "{wait}");
            world.clock.advance(wait.into());
            break;
        }
    }
    world.http.answer(SEND, meta_accepted("wamid.1"));
    // The bill is over by now only if its time is; it is not.
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(invoice(&world).status, MessageStatus::Sent);
    assert_eq!(world.queue.receive(), None);
}

#[tokio::test]
async fn a_pair_rate_is_waited_out() {
    let world = queued(|_| ()).await;
    world
        .http
        .always(SEND, meta_error(400, 131_056, "pair rate limit hit"));
    for (number, least) in [1, 4, 16].into_iter().enumerate() {
        assert!(matches!(next(&world).await, Some(Handled::Again(_))));
        let wait = world.queue.postponed()[number].1;
        assert!(wait >= least, "{wait}");
        world.clock.advance(wait.into());
    }
}

#[tokio::test]
async fn what_no_retry_can_help_is_given_up_loudly_and_discreetly() {
    let (logs, _guard) = Logs::capture();
    let world = queued(|_| ()).await;
    let error = meta_error(400, 131_026, "Message undeliverable to 919876543210");
    world.http.answer(SEND, error);
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(invoice(&world).status, MessageStatus::Failed);
    assert_eq!(logs.count("message_given_up"), 1);
    logs.assert_discreet();
    let detail = &invoice(&world).failure.unwrap().detail;
    assert!(!detail.contains("9876543210"), "{detail}");
}

#[tokio::test]
async fn a_bill_that_nobody_can_pay_any_more_is_not_sent() {
    let world = queued(|_| ()).await;
    world.clock.advance(3600);
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert!(world.http.labels().is_empty());
    assert_eq!(invoice(&world).status, MessageStatus::Skipped);
}

#[tokio::test]
async fn with_the_store_or_the_tenant_document_down_the_message_comes_again() {
    let world = queued(|_| ()).await;
    world.network.break_at(0, Break::Request);
    assert!(matches!(next(&world).await, Some(Handled::Again(_))));
    assert_eq!(world.queue.postponed()[0].1, 30);
    world.clock.advance(30);
    world.http.answer(SEND, meta_accepted("wamid.1"));
    assert_eq!(next(&world).await, Some(Handled::Done));

    let world = queued(|_| ()).await;
    world.tenants.spoil(&key("acme", "x").tenant, "broken");
    assert!(matches!(next(&world).await, Some(Handled::Again(_))));
    assert!(world.dead_letters.letters().is_empty());
}

#[tokio::test]
async fn after_a_failure_the_rest_of_the_order_waits_its_turn() {
    let world = World::new();
    let shipped = Event::Fulfilment {
        to: Fulfilment::Shipped,
        description: None,
    };
    world.order(vec![started(), shipped]).await;
    world
        .http
        .answer(SEND, Answer::NotSent("connection refused".to_owned()));
    assert_eq!(send(&world, "two-messages-of-one-order").await.len(), 2);
    assert_eq!(world.http.labels(), [SEND]);
}

#[tokio::test]
async fn news_of_an_order_refer_to_the_bill_the_customer_has() {
    let resend = Event::Resend {
        number: 2,
        reference: reference("BM345A-12-2"),
        to: None,
        key: None,
    };
    let second = |event: fn(MessageKey) -> Event| event(MessageKey::Invoice(2));
    let sent = [
        second(|message| Event::Try {
            message,
            attempt: 1,
            form: Form::Template,
            fallback: false,
            sms: false,
        }),
        second(|message| Event::Sent {
            message,
            attempt: 1,
            id: "wamid.2".to_owned(),
            segments: None,
        }),
    ];
    for (went_out, name) in [(false, "BM345A-12"), (true, "BM345A-12-2")] {
        let world = World::new();
        let mut history = bill_sent();
        history.push(resend.clone());
        if went_out {
            history.extend(sent.clone());
        }
        history.push(Event::Payment(captured(&bill(), "pay_1")));
        world.order(history).await;
        world.http.answer(SEND, meta_accepted("wamid.3"));
        assert!(send(&world, "paid").await.is_empty());
        let said = said(&world)[0].to_string();
        let named = format!("\"reference_id\":\"{name}\"");
        assert!(said.contains(&named), "{said}");
    }
}

/// With a fee on top, with an offer, and with another sum that the shop accepted.
fn paid_differently() -> Vec<(Vec<Event>, &'static str, &'static str)> {
    let report = |paise: i64| {
        let amount = Paise::new(paise).unwrap();
        PaymentReport {
            amount,
            ..captured(&bill(), "pay_1")
        }
    };
    let in_full = |paise: i64, fee: Option<i64>| {
        let fee = fee.map(|fee| Paise::new(fee).unwrap());
        vec![Event::Payment(PaymentReport {
            fee,
            ..report(paise).paying(bill().total)
        })]
    };
    let accepted = Event::Settled {
        payment_id: "pay_1".to_owned(),
        accept: true,
    };
    vec![
        (
            in_full(86_003, Some(1_003)),
            "860.03",
            "₹860.03 (bill ₹850.00, payment fee ₹10.03)",
        ),
        (
            in_full(80_000, None),
            "800.00",
            "₹800.00 (bill ₹850.00, offer −₹50.00)",
        ),
        (
            vec![Event::Payment(report(85_100)), accepted],
            "851.00",
            "your payment of ₹851.00. Thank",
        ),
    ]
}

#[tokio::test]
async fn a_confirmation_says_what_was_paid() {
    for (payment, _, words) in paid_differently() {
        let world = World::with(interactive);
        let mut history = bill_sent();
        history.extend(payment);
        world.order(history).await;
        world.http.answer(SEND, meta_accepted("wamid.3"));
        assert!(send(&world, "paid").await.is_empty());
        let said = said(&world)[0].to_string();
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn an_sms_says_what_was_paid() {
    for (payment, amount, _) in paid_differently() {
        let world = queued(falling_back).await;
        world
            .http
            .answer(EXOTEL, exotel_error(400, "EX_INVALID_RECIPIENT"));
        world.http.answer(EXOTEL_SMS, exotel_sms());
        assert_eq!(next(&world).await, Some(Handled::Done));
        for event in payment {
            world.happen(&key("acme", "BM345A-12"), event).await;
        }
        let paid = order(&world);
        let message = paid.message(&MessageKey::Paid).unwrap();
        let task = chatbill_domain::flows::task(&paid.key, message);
        world.queue.send(&task).await.unwrap();
        world.http.answer(EXOTEL_SMS, exotel_sms());
        assert_eq!(next(&world).await, Some(Handled::Done));
        let bodies: Vec<String> = world
            .http
            .calls()
            .into_iter()
            .map(|call| String::from_utf8(call.body.unwrap().1).unwrap())
            .collect();
        assert!(bodies[1].contains("850.00"), "the bill: {}", bodies[1]);
        assert!(bodies[2].contains(amount), "{amount}: {}", bodies[2]);
    }
}

#[tokio::test]
async fn a_customer_who_opted_out_is_left_alone() {
    let world = queued(|_| ()).await;
    let contact = Contact {
        tenant: order(&world).key.tenant,
        phone: order(&world).phone,
    };
    let at = world.clock.now();
    world.store.wish(&contact, Wish::OptOut, at).await.unwrap();
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert!(said(&world).is_empty());
    assert_eq!(invoice(&world).status, MessageStatus::Skipped);
    assert!(
        order(&world)
            .next_check(world.clock.now())
            .is_none_or(|due| due > at)
    );
}

#[tokio::test]
async fn auto_speaks_freely_to_a_customer_who_wrote_today_and_by_template_to_others() {
    let auto = |document: &mut Value| document["channel"]["form"] = json!("auto");
    for (wrote_hours_ago, form) in [
        (None, Form::Template),
        (Some(1), Form::Interactive),
        (Some(25), Form::Template),
    ] {
        let world = queued(auto).await;
        if let Some(hours) = wrote_hours_ago {
            let contact = Contact {
                tenant: order(&world).key.tenant,
                phone: order(&world).phone,
            };
            let until = world.clock.now().plus_seconds((24 - hours) * 3600);
            world.store.open_window(&contact, until).await.unwrap();
        }
        world.network.reset();
        world.http.answer(SEND, meta_accepted("wamid.1"));
        assert_eq!(next(&world).await, Some(Handled::Done));
        assert_eq!(invoice(&world).form, Some(form), "{wrote_hours_ago:?}");
        let trips = [
            "store.load",
            "store.window",
            "store.append",
            SEND,
            "store.append",
        ];
        assert_eq!(world.network.round_trips(), trips);
    }
}

#[tokio::test]
async fn a_sender_over_its_rate_is_sent_back_unclaimed() {
    let world = queued(|_| ()).await;
    let ports = ports(&world);
    ports.pace.ended(
        "meta/+918045210677",
        Some(Remedy::Throttled(7)),
        world.clock.now(),
    );
    let received = world.queue.receive().unwrap();
    let handled = handle(&ports, sqs(&received)).await;
    assert!(matches!(handled, Handled::Again(seconds) if (7..=8).contains(&seconds)));
    assert_eq!(world.network.round_trips(), ["queue.postpone"]);
    assert_eq!(invoice(&world).attempts, 0);
}

const EXOTEL: &str = "exotel.send_whatsapp";
const EXOTEL_SMS: &str = "exotel.send_sms";

/// A shop at Exotel without templates, whose customers get an SMS when WhatsApp fails.
fn falling_back(document: &mut Value) {
    document["channel"] = json!({
        "kind": "whatsapp", "provider": "exotel", "from": "+918045210677", "fallback_to_sms": true,
        "credentials": {
            "account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": "0123456789abcdef-callback",
            "dlt_entity_id": "1201159", "sender": "ACMEST",
            "dlt_template_ids": {"invoice": "1107160", "paid": "1107161", "canceled": "1107162", "status": "1107163"},
        },
    });
}

fn exotel_error(code: u16, status: &str) -> Answer {
    chatbill_testkit::memory::reply(
        202,
        &json!({"response": {"whatsapp": {"messages": [{"code": code, "status": "failure",
            "error_data": {"code": code, "description": status, "message": status}}]}}}),
    )
}

fn exotel_sms() -> Answer {
    chatbill_testkit::memory::reply(
        200,
        &json!({"SMSMessage": {"Sid": "sms-1", "Status": "queued"}}),
    )
}

async fn report(world: &World, attempt: u32, code: &str, remedy: Remedy) {
    let failure = chatbill_domain::message::SendFailure {
        remedy,
        code: code.to_owned(),
        detail: String::new(),
    };
    let event = Event::Report {
        message: MessageKey::Invoice(1),
        attempt,
        report: Report::Failed(failure),
    };
    world.happen(&key("acme", "BM345A-12"), event).await;
}

#[tokio::test]
async fn what_whatsapp_refuses_for_good_goes_out_by_sms_at_once_and_so_does_the_rest_of_the_order()
{
    let (logs, _guard) = Logs::capture();
    let world = queued(falling_back).await;
    world
        .http
        .answer(EXOTEL, exotel_error(400, "EX_INVALID_RECIPIENT"));
    world.http.answer(EXOTEL_SMS, exotel_sms());
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels(), [EXOTEL, EXOTEL_SMS]);
    let sms = invoice(&world);
    assert_eq!(
        (sms.form, sms.status),
        (Some(Form::Sms), MessageStatus::Sent)
    );
    assert!(sms.segments.is_some());
    assert!(order(&world).turned_to_sms.is_some());
    // The text leads to the page by its short name.
    let body = world.http.calls()[1].body.clone().unwrap().1;
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("shop.example%2Fr%2F"), "{body}");
    assert!(!body.contains("YWNtZS9"), "not the long name: {body}");
    logs.assert_discreet();
    // WhatsApp is not tried again for this order.
    world
        .happen(
            &key("acme", "BM345A-12"),
            Event::Payment(captured(&bill(), "pay_1")),
        )
        .await;
    let paid = order(&world);
    let task = chatbill_domain::flows::task(&paid.key, paid.message(&MessageKey::Paid).unwrap());
    world.queue.send(&task).await.unwrap();
    world.http.answer(EXOTEL_SMS, exotel_sms());
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels(), [EXOTEL, EXOTEL_SMS, EXOTEL_SMS]);
    let paid = order(&world).message(&MessageKey::Paid).unwrap().clone();
    assert_eq!(
        (paid.form, paid.status),
        (Some(Form::Sms), MessageStatus::Sent)
    );
}

#[tokio::test]
async fn a_failure_reported_later_turns_to_sms_as_well() {
    let world = queued(falling_back).await;
    let accepted = chatbill_testkit::memory::reply(
        202,
        &json!({"response": {"whatsapp": {"messages": [{"code": 202, "status": "success", "data": {"sid": "wa-1"}}]}}}),
    );
    world.http.answer(EXOTEL, accepted);
    assert_eq!(next(&world).await, Some(Handled::Done));
    report(&world, 1, "EX_INCAPABLE_RECIPIENT", Remedy::GiveUp).await;
    let task = chatbill_domain::flows::task(&order(&world).key, &invoice(&world));
    world.queue.send(&task).await.unwrap();
    world.http.answer(EXOTEL_SMS, exotel_sms());
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels(), [EXOTEL, EXOTEL_SMS]);
    // A second report of the same failure changes nothing: the SMS stands.
    report(&world, 1, "EX_INCAPABLE_RECIPIENT", Remedy::GiveUp).await;
    assert_eq!(invoice(&world).status, MessageStatus::Sent);
}

#[tokio::test]
async fn what_may_have_arrived_is_never_sent_by_sms_as_well() {
    let world = queued(falling_back).await;
    world.http.answer(EXOTEL, lost());
    assert!(matches!(next(&world).await, Some(Handled::Again(_))));
    world.clock.advance(200);
    world
        .http
        .answer(EXOTEL, exotel_error(400, "EX_INVALID_RECIPIENT"));
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels(), [EXOTEL, EXOTEL]);
    assert_eq!(invoice(&world).status, MessageStatus::Failed);
}

#[tokio::test]
async fn what_is_worth_another_try_stays_on_whatsapp() {
    let world = queued(falling_back).await;
    world
        .http
        .answer(EXOTEL, exotel_error(500, "EX_SYSTEM_ERROR"));
    assert!(matches!(next(&world).await, Some(Handled::Again(_))));
    assert_eq!(world.http.labels(), [EXOTEL]);
    assert!(order(&world).turned_to_sms.is_none());
}

#[tokio::test]
async fn a_cut_line_during_the_turn_to_sms_sends_one_sms_in_the_end() {
    for at in 0..6 {
        for side in [Break::Request, Break::Answer] {
            let world = queued(falling_back).await;
            world
                .http
                .always(EXOTEL, exotel_error(400, "EX_INVALID_RECIPIENT"));
            world.http.always(EXOTEL_SMS, exotel_sms());
            world.network.crash_at(at, side);
            let _ = next(&world).await;
            world.network.restore();
            for _ in 0..6 {
                world.clock.advance(1000);
                let now = order(&world);
                if invoice(&world).status.is_settled() {
                    break;
                }
                let task = chatbill_domain::flows::task(&now.key, &now.messages[0]);
                world.queue.send(&task).await.unwrap();
                while next(&world).await.is_some() {}
            }
            let sms = world
                .http
                .labels()
                .iter()
                .filter(|l| **l == EXOTEL_SMS)
                .count();
            let whatsapp_lost = invoice(&world).may_have_arrived() && sms == 0;
            assert!(sms <= 2, "cut at {at} {side:?}: {sms} SMS");
            assert!(
                sms >= 1 || whatsapp_lost,
                "cut at {at} {side:?}: nothing went out"
            );
        }
    }
}

// ---- What waits for what -----------------------------------------------------------------------------------------------

/// An order whose bill waits for its next try, an hour away, and that is then paid.
async fn paid_while_the_bill_waits(change: impl FnOnce(&mut Value)) -> World {
    let world = World::with(change);
    let order = world.order(vec![started()]).await;
    let task = chatbill_domain::flows::task(&order.key, &order.messages[0]);
    world.queue.send(&task).await.unwrap();
    let busy = chatbill_domain::http::HttpReply {
        status: 429,
        retry_after: Some(3600),
        body: Vec::new(),
    };
    world.http.answer(SEND, Answer::Reply(busy));
    assert_eq!(next(&world).await, Some(Handled::Again(3600)));
    world.clock.advance(20);
    pay(&world).await;
    world.network.reset();
    world
}

async fn pay(world: &World) {
    let event = Event::Payment(captured(&bill(), "pay_1"));
    let order = world.happen(&order(world).key, event).await;
    for message in order.to_queue() {
        let task = chatbill_domain::flows::task(&order.key, message);
        world.queue.send(&task).await.unwrap();
    }
}

fn status_of(world: &World, message: &MessageKey) -> MessageStatus {
    order(world).message(message).unwrap().status
}

#[tokio::test]
async fn a_waiting_bill_keeps_no_paid_customer_in_the_dark() {
    let world = paid_while_the_bill_waits(|_| ()).await;
    world.http.answer(SEND, meta_accepted("wamid.2"));
    assert_eq!(next(&world).await, Some(Handled::Done), "at once");
    let said = said(&world).pop().unwrap();
    assert_eq!(said["type"], "text", "WhatsApp knows no order to update");
    assert!(said["text"]["body"].as_str().unwrap().contains("received"));
    assert_eq!(status_of(&world, &MessageKey::Paid), MessageStatus::Sent);
    let bill = MessageKey::Invoice(1);
    assert_eq!(status_of(&world, &bill), MessageStatus::Skipped);
    // When its time comes, the bill asks nobody to pay.
    world.clock.advance(3600);
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(world.http.labels().len(), 2);
    assert_eq!(world.queue.receive(), None);
}

#[tokio::test]
async fn a_confirmation_that_needs_the_bill_follows_it() {
    let world = paid_while_the_bill_waits(|_| ()).await;
    let closed = meta_error(400, 131_047, "Re-engagement message");
    world.http.answer(SEND, closed);
    let Some(Handled::Again(wait)) = next(&world).await else {
        panic!("it comes again");
    };
    assert!((3590..=4308).contains(&wait), "{wait}");
    world.clock.advance(wait.into());
    world.http.always(SEND, meta_accepted("wamid.3"));
    while next(&world).await.is_some() {}
    world.clock.advance(15);
    while next(&world).await.is_some() {}
    let kinds: Vec<String> = said(&world)
        .iter()
        .map(|m| m["template"]["name"].to_string())
        .collect();
    assert_eq!(kinds, ["\"bill\"", "null", "\"bill\"", "\"bill_status\""]);
    assert_eq!(status_of(&world, &MessageKey::Paid), MessageStatus::Sent);
}

#[tokio::test]
async fn a_confirmation_waits_a_moment_for_a_bill_going_out() {
    let world = World::new();
    let going_out = Event::Try {
        message: MessageKey::Invoice(1),
        attempt: 1,
        form: Form::Template,
        fallback: false,
        sms: false,
    };
    world.order(vec![started(), going_out]).await;
    pay(&world).await;
    assert_eq!(next(&world).await, Some(Handled::Again(2)));
    assert!(world.http.labels().is_empty());
    let sent = Event::Sent {
        message: MessageKey::Invoice(1),
        attempt: 1,
        id: "wamid.1".to_owned(),
        segments: None,
    };
    world.happen(&order(&world).key, sent).await;
    world.clock.advance(2);
    world.http.answer(SEND, meta_accepted("wamid.2"));
    assert_eq!(next(&world).await, Some(Handled::Done));
    assert_eq!(said(&world)[0]["template"]["name"], "bill_status");
}

#[tokio::test]
async fn a_status_of_an_unpaid_order_follows_its_bill() {
    let world = World::new();
    let shipped = Event::Fulfilment {
        to: Fulfilment::Shipped,
        description: None,
    };
    let order = world.order(vec![started(), shipped]).await;
    for message in order.to_queue() {
        let task = chatbill_domain::flows::task(&order.key, message);
        world.queue.send(&task).await.unwrap();
    }
    let down = Answer::NotSent("connection refused".to_owned());
    world.http.answer(SEND, down);
    for _ in 0..2 {
        assert!(matches!(next(&world).await, Some(Handled::Again(_))));
    }
    assert_eq!(world.http.labels(), [SEND], "only the bill was tried");
    world.http.always(SEND, meta_accepted("wamid.1"));
    for _ in 0..4 {
        world.clock.advance(10);
        while next(&world).await.is_some() {}
    }
    let status = MessageKey::Status(1);
    assert_eq!(status_of(&world, &status), MessageStatus::Sent);
    assert_eq!(said(&world)[1]["template"]["name"], "bill");
    assert_eq!(said(&world)[2]["template"]["name"], "bill_status");
}

#[tokio::test]
async fn what_ends_the_order_ends_its_waiting_bill() {
    let ends = [
        Event::Fulfilment {
            to: Fulfilment::Canceled,
            description: None,
        },
        Event::Expired,
        Event::Resend {
            number: 2,
            reference: reference("BM345A-12-2"),
            to: Some(chatbill_domain::contact::Msisdn::parse("+919812345678").unwrap()),
            key: None,
        },
    ];
    for end in ends {
        let world = queued(|_| ()).await;
        let busy = chatbill_domain::http::HttpReply {
            status: 429,
            retry_after: Some(3600),
            body: Vec::new(),
        };
        world.http.answer(SEND, Answer::Reply(busy));
        next(&world).await;
        let is_resend = matches!(end, Event::Resend { .. });
        let order = world.happen(&order(&world).key, end).await;
        assert_eq!(
            status_of(&world, &MessageKey::Invoice(1)),
            MessageStatus::Skipped
        );
        if is_resend {
            // The right number does not wait for the wrong one.
            for message in order.to_queue() {
                let task = chatbill_domain::flows::task(&order.key, message);
                world.queue.send(&task).await.unwrap();
            }
            world.http.answer(SEND, meta_accepted("wamid.2"));
            assert_eq!(next(&world).await, Some(Handled::Done));
            let second = MessageKey::Invoice(2);
            assert_eq!(status_of(&world, &second), MessageStatus::Sent);
        }
        world.clock.advance(3600);
        assert_eq!(next(&world).await, Some(Handled::Done));
        assert_eq!(world.queue.receive(), None);
    }
}
