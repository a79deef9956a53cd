//! Money that goes back: what the till asks for, what the gateway lost the answer of, what somebody did in the dashboard.

use std::cell::Cell;
use std::thread;

use serde_json::{Value, json};

use super::{Counter, all, each};
use crate::stack::http::Reply;
use crate::stack::shop::{message, stack};

impl Counter {
    fn refund(&self, reference: &str, body: &Value) -> Reply {
        let path = format!("/invoices/{reference}/refunds");
        self.shop.call("POST", &path, Some(body))
    }

    fn refunds(&self, reference: &str) -> Vec<Value> {
        let path = format!("/invoices/{reference}/refunds");
        let list = self.shop.call("GET", &path, None).json(200);
        list["refunds"].as_array().unwrap().clone()
    }

    /// Waits until a refund is done and the customer has heard of it. What gateways do not tell by webhook is asked for.
    fn until_refunded(&self, reference: &str, status: &str, told: &str) -> Value {
        let aged = Cell::new(0);
        self.shop.until(reference, "the refund", |order| {
            let done =
                order["payment_status"] == status && message(order, told)["status"] == "delivered";
            let is_due = self
                .refunds(reference)
                .iter()
                .any(|refund| refund["status"] == "pending");
            if !done && is_due && aged.get() < 3 {
                aged.set(aged.get() + 1);
                self.settle();
                self.shop.age(reference, 16);
                stack().reconcile();
            }
            done
        })
    }
}

fn rupees(paise: i64) -> Value {
    json!({"value": paise, "offset": 100})
}

#[test]
fn all_of_it_goes_back_and_the_customer_is_told() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.sell_and_be_paid();
        let body = json!({"refund_id": "RF-1", "reason": "Returned at the till"});
        let made = counter.refund(&reference, &body).json(201);
        assert_eq!(made["amount"]["value"], 85_000, "{made:#}");
        counter.until_refunded(&reference, "refunded", "refund.1");
        // The same request again is answered, and nothing more goes back.
        let again = counter.refund(&reference, &body).json(200);
        assert_eq!(again["status"], "processed", "{again:#}");
        let other = counter.refund(&reference, &json!({"refund_id": "RF-2"}));
        assert_eq!(other.problem(409)["code"], "refund_exceeds_captured");
        counter.settle();
        assert_eq!(counter.refunds(&reference).len(), 1);
        assert_eq!(counter.calls(way.teller(), way.refunds.0), 1);
        let inbox = counter.shop.inbox(&counter.shop.phone);
        assert_eq!(inbox.len(), 3, "bill, payment, refund: {inbox:?}");
        let page = counter.receipt(&reference);
        assert!(
            page.contains("Refunded") && page.contains("850.00"),
            "{page}"
        );
    });
}

#[test]
fn of_two_refunds_that_are_too_much_together_one_goes_back() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.sell_and_be_paid();
        let part = json!({"refund_id": "RF-1", "amount": rupees(30_000)});
        counter.refund(&reference, &part).json(201);
        counter.until_refunded(&reference, "partially_refunded", "refund.1");
        assert!(counter.receipt(&reference).contains("partly refunded"));
        // Different amounts: PayU takes the same one twice in five minutes for a mistake.
        let replies: Vec<Reply> = thread::scope(|scope| {
            let asked = [40_001, 40_002].map(|amount| {
                let counter = &counter;
                let reference = &reference;
                scope.spawn(move || {
                    let body =
                        json!({"refund_id": format!("RF-{amount}"), "amount": rupees(amount)});
                    counter.refund(reference, &body)
                })
            });
            asked.map(|one| one.join().unwrap()).into()
        });
        let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        let texts: Vec<String> = replies.iter().map(Reply::text).collect();
        assert_eq!(statuses, [201, 409], "{texts:?}");
        let no = replies.iter().find(|reply| reply.status == 409).unwrap();
        assert_eq!(no.problem(409)["code"], "refund_exceeds_captured");
        counter.until_refunded(&reference, "partially_refunded", "refund.2");
        assert_eq!(counter.refunds(&reference).len(), 2);
        assert_eq!(counter.calls(way.teller(), way.refunds.0), 2);
    });
}

#[test]
fn a_refund_whose_answer_was_lost_is_found_and_not_made_again() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.sell_and_be_paid();
        counter.settle();
        // News of the refund by webhook would end the doubt too early.
        counter.webhooks("drop_webhook");
        let (operation, before) = way.refunds;
        let lost = json!({"kind": "reset_after", "operation": operation});
        counter.fault(way.teller(), lost);
        let down = json!({"kind": "status", "status": 503, "times": null, "skip": before});
        counter.fault(way.teller(), down);
        let made = counter.refund(&reference, &json!({"refund_id": "RF-1"}));
        let made = made.json(202);
        assert_eq!(made["status"], "unknown", "{made:#}");
        let order = counter.shop.order(&reference);
        assert_eq!(order["payment_status"], "captured", "{order:#}");
        counter.mend();
        counter.webhooks("drop_webhook");
        counter.shop.age(&reference, 3);
        stack().reconcile();
        counter.until_refunded(&reference, "refunded", "refund.1");
        assert_eq!(counter.calls(way.teller(), operation), 1);
        let refunds = counter.refunds(&reference);
        assert_eq!(refunds.len(), 1, "{refunds:#?}");
        assert_eq!(refunds[0]["amount"]["value"], 85_000);
    });
}

/// Razorpay is the only one whose dashboard the sandbox plays.
#[test]
fn a_refund_made_in_the_dashboard_shows() {
    let dashboard = |way: &super::Way| way.gateway == "razorpay" && way.mode == "payment_link";
    each(dashboard, |way| {
        let counter = Counter::open(way);
        let reference = counter.sell_and_be_paid();
        let order = counter.shop.order(&reference);
        let payment = &order["payment"]["attempts"][0]["payment_id"];
        let wanted = json!({"vendor": "razorpay", "payment_id": payment, "amount": 12_345});
        let made = counter.shop.control("refunds", &wanted);
        counter.until_refunded(&reference, "partially_refunded", "refund.1");
        let refunds = counter.refunds(&reference);
        assert_eq!(refunds.len(), 1, "{refunds:#?}");
        assert_eq!(refunds[0]["gateway_refund_id"], made["id"]);
        assert_eq!(refunds[0]["amount"]["value"], 12_345);
        assert!(counter.receipt(&reference).contains("123.45"));
        // What is left is known.
        let rest = counter.refund(&reference, &json!({"refund_id": "RF-1"}));
        assert_eq!(rest.json(201)["amount"]["value"], 72_655);
        counter.until_refunded(&reference, "refunded", "refund.2");
    });
}
