//! Messages on their way to the customer: a provider that is down, silent, or has rules; a queue with rubbish in it.

use serde_json::{Value, json};

use super::aws::now_ms;
use super::shop::{Shop, count, eventually, message, phone, random, stack};

fn seconds_until(time: &Value) -> i64 {
    let format = time::format_description::well_known::Rfc3339;
    let at = time::OffsetDateTime::parse(time.as_str().unwrap(), &format).unwrap();
    at.unix_timestamp() - now_ms() / 1000
}

/// Gives the function a bill's task as the queue would give it the `receive`th time.
pub(crate) fn hand_out(shop: &Shop, reference: &str, receive: u32) {
    let task = json!({"v": 1, "tenant_id": shop.id, "reference_id": reference, "message": "invoice.1", "attempt": 0});
    let event = json!({"Records": [{
        "messageId": "by-hand", "receiptHandle": "by-hand", "body": task.to_string(),
        "attributes": {
            "ApproximateReceiveCount": receive.to_string(), "MessageGroupId": format!("{}:{reference}", shop.id),
        },
        "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": "by-hand",
        "awsRegion": stack().aws.region,
    }]});
    let function = stack().aws.function("SendStatus");
    let answer = stack().aws.invoke(&function, &event);
    assert_eq!(answer["batchItemFailures"], json!([]));
}

#[test]
fn a_task_that_the_queue_hands_out_twice_sends_one_message() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    // A second copy that looks new, and one that looks like a repetition.
    hand_out(&shop, &reference, 1);
    hand_out(&shop, &reference, 2);
    assert_eq!(shop.received("send_message", &reference).len(), 1);
    assert_eq!(shop.inbox(&shop.phone).len(), 1);
}

#[test]
fn a_message_is_tried_again_when_its_provider_was_down() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    let down = json!({"vendor": "meta", "operation": "send_message", "kind": "status", "status": 503, "times": 2});
    shop.fault(reference, down);
    shop.post(&bill).json(201);
    // After 5 s and 30 s, give or take a fifth: the first steps of the published schedule.
    let order = shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    assert_eq!(message(&order, "invoice.1")["attempts"], 3);
    assert_eq!(count(&order, "send_failed", |_| true), 2);
    let calls = shop.received("send_message", reference);
    assert_eq!(calls.len(), 3);
    let at = |call: &Value| call["at"].as_i64().unwrap();
    assert!(
        (3..=8).contains(&(at(&calls[1]) - at(&calls[0]))),
        "{calls:?}"
    );
    assert!(
        (23..=40).contains(&(at(&calls[2]) - at(&calls[1]))),
        "{calls:?}"
    );
    assert_eq!(shop.inbox(&shop.phone).len(), 1);
}

#[test]
fn a_message_whose_answer_was_lost_after_it_was_accepted_is_sent_once() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    let lost = json!({"vendor": "meta", "operation": "send_message", "kind": "timeout_after", "delay_ms": 500});
    shop.fault(reference, lost);
    shop.post(&bill).json(201);
    // Meta's own report says that it went out.
    let order = shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    assert_eq!(message(&order, "invoice.1")["attempts"], 1);
    assert_eq!(shop.received("send_message", reference).len(), 1);
    assert_eq!(shop.inbox(&shop.phone).len(), 1);
}

#[test]
fn a_message_that_was_never_accepted_is_sent_again_but_not_blindly() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    let lost = json!({"vendor": "meta", "operation": "send_message", "kind": "timeout_before", "delay_ms": 500});
    shop.fault(reference, lost);
    shop.post(&bill).json(201);
    let order = shop.until(reference, "the try to end", |order| {
        message(order, "invoice.1")["status"] == "unknown"
    });
    let next = seconds_until(&message(&order, "invoice.1")["next_attempt_at"]);
    assert!(
        (100..=150).contains(&next),
        "Meta's report gets two minutes, not {next} s"
    );
    // Two minutes later: the order is made older in the table, and the task is given to the function as the queue would
    // give it, because in the queue it stays hidden until its time.
    shop.age(reference, 4);
    hand_out(&shop, reference, 2);
    shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    assert_eq!(shop.received("send_message", reference).len(), 2);
    assert_eq!(shop.inbox(&shop.phone).len(), 1, "one message");
}

#[test]
fn outside_the_window_the_template_goes_out_once_however_meta_says_it() {
    for how in ["async", "sync"] {
        let shop = Shop::with(|plan| {
            plan.interactive();
            plan.accounts["meta"]["window_error"] = json!(how);
        });
        let reference = shop.sell_and_deliver();
        let calls = shop.received("send_message", &reference);
        let operations: Vec<&Value> = calls.iter().map(|call| &call["operation"]).collect();
        let wanted = [
            "send_message.order_details",
            "send_message.template_order_details",
        ];
        assert_eq!(operations, wanted, "{how}");
        assert_eq!(shop.inbox(&shop.phone).len(), 1, "{how}: one message");
        let order = shop.order(&reference);
        assert_eq!(message(&order, "invoice.1")["form"], "template", "{how}");
    }
}

#[test]
fn inside_the_window_the_interactive_message_goes_out() {
    let shop = Shop::with(|plan| plan.interactive());
    let account = format!("20{}", shop.phone);
    let hello = json!({"phone": shop.phone, "text": "hello", "account": account});
    shop.control("customer/message", &hello);
    let reference = shop.sell_and_deliver();
    let calls = shop.received("send_message", &reference);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["operation"], "send_message.order_details");
}

#[test]
fn a_message_to_a_phone_without_whatsapp_is_given_up_and_the_shop_sees_it() {
    let shop = Shop::open();
    let nobody = phone();
    shop.control(
        "customer/phone",
        &json!({"phone": nobody, "whatsapp": false}),
    );
    let mut bill = shop.bill();
    bill["customer"]["phone"] = json!(format!("+{nobody}"));
    shop.post(&bill).json(201);
    let reference = bill["reference_id"].as_str().unwrap();
    let order = shop.until(reference, "the message to be given up", |order| {
        order["delivery"]["status"] == "failed"
    });
    assert_eq!(message(&order, "invoice.1")["error"]["code"], "131026");
    // The link still works, for a customer who is shown it at the till.
    shop.pay(reference);
    shop.until(reference, "the payment to count", |order| {
        order["payment_status"] == "captured"
    });
}

#[test]
fn rubbish_in_the_queue_goes_to_the_dead_letters_and_its_neighbours_are_delivered() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    let sqs = |operation: &str, body: Value| stack().aws.sqs(operation, &body);
    // In front of the order's own messages, in their group, where it could hold them up.
    let rubbish = [
        format!("{{\"v\":1,\"tenant_id\":\"{}\" cut off {}", shop.id, random(8)),
        json!({"v": 99, "tenant_id": shop.id, "reference_id": reference, "message": "invoice.1", "attempt": 0}).to_string(),
    ];
    for body in &rubbish {
        sqs(
            "SendMessage",
            json!({
                "QueueUrl": stack().queue_url, "MessageBody": body,
                "MessageGroupId": format!("{}:{reference}", shop.id), "MessageDeduplicationId": random(16),
            }),
        );
    }
    shop.post(&bill).json(201);
    shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    let mut found: Vec<String> = Vec::new();
    let all = eventually(|| {
        let page = sqs(
            "ReceiveMessage",
            json!({
                "QueueUrl": stack().dlq_url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 2,
                "MessageAttributeNames": ["All"],
            }),
        );
        for letter in page["Messages"].as_array().into_iter().flatten() {
            let body = letter["Body"].as_str().unwrap().to_owned();
            if rubbish.contains(&body) && !found.contains(&body) {
                let reason = &letter["MessageAttributes"]["reason"]["StringValue"];
                assert!(reason.is_string(), "it says why: {letter}");
                sqs(
                    "DeleteMessage",
                    json!({"QueueUrl": stack().dlq_url, "ReceiptHandle": letter["ReceiptHandle"]}),
                );
                found.push(body);
            }
        }
        (found.len() == rubbish.len()).then_some(())
    });
    assert!(all.is_some(), "as they were sent: {found:?}");
}
