//! The chain through every provider and channel, and what each does when it fails.

use serde_json::{Value, json};

use super::delivering::hand_out;
use super::http;
use super::shop::{count, message};
use super::ways::{ALL, BOTH, Outlet, SMS, Way, assert_short, each};

fn delivered(order: &Value) -> bool {
    order["delivery"]["status"] == "delivered"
}

#[test]
fn a_bill_is_paid_and_confirmed_and_its_links_open_the_page() {
    each(&ALL, |way| {
        let outlet = way.open_to_customers(|_| ());
        let (reference, answer) = outlet.sell();
        outlet.until(&reference, "the bill to be delivered", delivered);
        let mut link = answer["payment"]["link"].as_str().unwrap().to_owned();
        if way.is_sms() {
            // The customer has this link only.
            assert_short(&outlet.link());
            let page = outlet.page();
            assert!(page.text().contains(&reference) && page.text().contains("850.00"));
            let pay = http::get(&format!("{}/pay", outlet.link()), &[]);
            assert_eq!((pay.status, pay.header("location")), (302, &*link));
            link = pay.header("location").to_owned();
        }
        outlet.control("customer/pay", &json!({"link": link, "method": "upi"}));
        let order = outlet.until_confirmed(&reference);
        assert_eq!(order["delivery"]["provider"], way.vendor());
        let channel = if way.is_sms() { "sms" } else { "whatsapp" };
        assert_eq!(order["delivery"]["channel"], channel);
        assert_eq!(order["payment"]["captured"]["value"], 85_000);
        assert_eq!(outlet.inbox(&outlet.phone), way.chain());
        assert_eq!(outlet.asked().len(), 2);
        let page = outlet.page();
        assert!(page.text().contains("Paid"), "{}", page.text());
        if way.is_sms() {
            assert_short(&outlet.link());
            let parts = message(&order, "paid")["segments"].as_u64();
            let seen = outlet.messages().last().unwrap()["segments"].as_u64();
            assert_eq!(parts, seen, "as many parts as the provider counts");
        }
    });
}

#[test]
fn a_bill_is_paid_inside_whatsapp_through_a_reseller() {
    each(&BOTH, |way| {
        let outlet = way.open_to_customers(|plan| plan.native());
        let (reference, answer) = outlet.sell();
        assert!(answer["payment"].get("link").is_none(), "{answer}");
        outlet.until(&reference, "the bill to be delivered", delivered);
        let tap = json!({"vendor": way.vendor(), "reference_id": reference, "method": "upi"});
        outlet.control("customer/pay", &tap);
        let order = outlet.until_confirmed(&reference);
        assert_eq!(order["payment"]["captured"]["value"], 85_000);
        let captured = count(&order, "payment", |entry| entry["status"] == "captured");
        assert_eq!(captured, 1, "{order:#}");
        assert_eq!(
            outlet.inbox(&outlet.phone),
            ["order_details", "order_status"]
        );
        assert!(outlet.page().text().contains("Paid"));
    });
}

#[test]
fn what_a_provider_refuses_or_reports_as_failed_is_given_up_and_the_bill_can_still_be_paid() {
    each(&ALL, |way| {
        let outlet = way.open_to_customers(|_| ());
        let refused = match way {
            Way::Meta => 131_009,
            Way::ExotelWhatsApp => 30_012,
            Way::ExotelSms => 40_203,
            Way::KaleyraWhatsApp | Way::KaleyraSms => 413,
        };
        let (reported, code) = match way {
            Way::Meta => (json!({"code": 131_026}), "131026"),
            Way::ExotelWhatsApp => (json!({"code": 30_014}), "EX_RECIPIENT_BLOCKED"),
            Way::ExotelSms => (json!({"code": 23_010}), "23010"),
            Way::KaleyraWhatsApp => (json!({"code": 131_026}), "131026"),
            Way::KaleyraSms => (
                json!({"body": {"status": "NOT-SENT", "trace": "INVALID-SUB"}}),
                "INVALID-SUB",
            ),
        };
        let given_up = |order: &Value| order["delivery"]["status"] == "failed";
        outlet.trouble(json!({"kind": "status", "status": 400, "code": refused}));
        let (_, order) = outlet.sell_until("the refused bill to be given up", given_up);
        assert_eq!(count(&order, "send_failed", |_| true), 1, "{order:#}");
        let mut fault = reported;
        fault["kind"] = json!("async_error");
        outlet.trouble(fault);
        let (reference, order) = outlet.sell_until("the failed bill to be given up", given_up);
        assert_eq!(message(&order, "invoice.1")["error"]["code"], code);
        assert_eq!(count(&order, "delivery_failed", |_| true), 1, "{order:#}");
        assert_eq!(message(&order, "invoice.1")["attempts"], 1);
        assert_eq!(outlet.asked().len(), 2, "each was tried once");
        assert_eq!(outlet.messages().len(), 0);
        // The link still works, for a customer who is shown it at the till.
        outlet.pay(&reference);
        outlet.until(&reference, "the payment to count", |order| {
            order["payment_status"] == "captured"
        });
    });
}

/// Neither Exotel nor Kaleyra signs anything: a secret that only they were told is all there is.
#[test]
fn a_report_without_the_shop_s_token_is_refused() {
    each(&ALL[1..], |way| {
        let outlet = way.open_to_customers(|_| ());
        let reference = outlet.sell_and_deliver();
        let order = outlet.order(&reference);
        let event = if way.is_sms() { "sms" } else { "status" };
        let report = outlet.reports(event).pop().expect("a report");
        let url = report["url"].as_str().unwrap();
        let said = |url: &str| {
            let body = report["raw_body"].as_str().unwrap().as_bytes();
            let kind = report["headers"]["Content-Type"].as_str().unwrap();
            let reply = http::send("POST", url, &[("content-type", kind)], Some(body));
            (reply.status, reply.text())
        };
        let refused = (401, String::new());
        assert_eq!(said(&url.replace("token=", "token=0")), refused);
        assert_eq!(said(&url.replace("token=", "t=")), refused);
        assert_eq!(said(url).0, 200, "as it was sent");
        assert_eq!(outlet.order(&reference), order, "it came before");
    });
}

#[test]
fn a_throttled_message_comes_later_and_once() {
    each(&ALL, |way| {
        let outlet = way.open_to_customers(|_| ());
        let throttled = json!({"kind": "status", "status": 429, "headers": {"Retry-After": "2"}});
        outlet.trouble(throttled);
        let (_, order) = outlet.sell_until("the bill to be delivered", delivered);
        assert_eq!(message(&order, "invoice.1")["attempts"], 2);
        assert_eq!(count(&order, "send_failed", |_| true), 1);
        let calls = outlet.asked();
        let at: Vec<i64> = calls
            .iter()
            .filter_map(|call| call["at"].as_i64())
            .collect();
        // After 5 s, give or take a fifth, and not before the provider wants it.
        assert!(
            matches!(*at, [first, second] if second - first >= 3),
            "{at:?}"
        );
        assert_eq!(outlet.inbox(&outlet.phone), way.chain()[..1]);
    });
}

/// The provider took the message, and nobody heard its answer.
#[test]
fn a_message_that_was_accepted_without_an_answer_is_not_sent_again() {
    each(&ALL, |way| {
        let outlet = way.open_to_customers(|_| ());
        outlet.trouble(json!({"kind": "timeout_after", "delay_ms": 500}));
        let (reference, order) = outlet.sell_until("the report to settle it", delivered);
        assert_eq!(message(&order, "invoice.1")["attempts"], 1);
        // Were it handed out again now, it would not go out again.
        hand_out(&outlet, &reference, 2);
        assert_eq!(outlet.asked().len(), 1);
        assert_eq!(outlet.inbox(&outlet.phone), way.chain()[..1]);
        // The confirmation does not wait behind a bill that nobody waits for any more.
        outlet.pay(&reference);
        outlet.until_confirmed(&reference);
        assert_eq!(outlet.inbox(&outlet.phone), way.chain());
    });
}

/// The provider never took the message, and nobody can tell that from the other case.
#[test]
fn a_message_that_was_lost_on_the_way_is_sent_once_in_the_end() {
    each(&ALL, |way| {
        let outlet = way.open_to_customers(|_| ());
        outlet.trouble(json!({"kind": "timeout_before", "delay_ms": 500}));
        let (reference, _) = outlet.sell_until("the try to end", |order| {
            message(order, "invoice.1")["status"] == "unknown"
        });
        assert_eq!(outlet.messages().len(), 0);
        // Its report gets two minutes; the order is made older, and the task is given to the function as the queue would.
        outlet.age(&reference, 4);
        hand_out(&outlet, &reference, 2);
        outlet.until(&reference, "the bill to be delivered", delivered);
        assert_eq!(outlet.asked().len(), 2);
        assert_eq!(outlet.inbox(&outlet.phone), way.chain()[..1]);
    });
}

#[test]
fn a_customer_by_sms_hears_of_a_failed_attempt_and_can_try_again() {
    each(&SMS, |way| {
        let outlet = way.open(|_| ());
        let reference = outlet.sell_and_deliver();
        outlet.customer("fail", &reference, json!({}));
        outlet.until(&reference, "the failed attempt to be told", |order| {
            message(order, "failed")["status"] == "delivered"
        });
        let told = outlet.messages().last().unwrap()["text"].clone();
        let words = format!("for bill {reference} at Test Stores did not go through");
        assert!(told.as_str().unwrap().contains(&words), "{told}");
        assert_short(&outlet.link());
        let pay = http::get(&format!("{}/pay", outlet.link()), &[]);
        let again = json!({"link": pay.header("location"), "method": "upi"});
        outlet.control("customer/pay", &again);
        outlet.until_confirmed(&reference);
        assert_eq!(outlet.inbox(&outlet.phone), ["sms"; 3]);
    });
}

/// How many messages the provider did not refuse.
fn taken(outlet: &Outlet) -> usize {
    let calls = outlet.asked();
    calls.iter().filter(|call| call["fault"].is_null()).count()
}

#[test]
fn a_burst_of_one_shop_does_not_hold_up_another_and_loses_nothing() {
    const BILLS: usize = 30;
    let busy = Way::ExotelSms.open(|_| ());
    let calm = Way::ExotelSms.open(|_| ());
    // The last bills of the burst find the provider throttling, so its sender rests in the middle of the work.
    busy.trouble(json!({
        "kind": "status", "status": 429, "headers": {"Retry-After": "12"}, "skip": 25, "times": 3,
    }));
    let references: Vec<String> = std::thread::scope(|scope| {
        let tills: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| (0..BILLS / 6).map(|_| busy.sell().0).collect::<Vec<_>>()))
            .collect();
        tills
            .into_iter()
            .flat_map(|till| till.join().unwrap())
            .collect()
    });
    calm.sell_and_deliver();
    assert!(busy.messages().len() < BILLS, "the burst is not over yet");
    for reference in &references {
        busy.until(reference, "each bill to be delivered", delivered);
    }
    assert_eq!(taken(&busy), BILLS);
    let texts: Vec<String> = busy
        .messages()
        .iter()
        .map(|sms| sms["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts.len(), BILLS);
    for reference in &references {
        let about = texts.iter().filter(|text| text.contains(reference)).count();
        assert_eq!(about, 1, "{reference}");
    }
}
