//! Bills that end without money, and money that comes after.

use serde_json::json;

use super::{Counter, Entrance, all, each};
use crate::stack::http;
use crate::stack::shop::{message, stack};

#[test]
fn a_canceled_bill_is_offered_no_more_and_money_that_comes_after_all_is_held() {
    each(
        |way| way.cancels,
        |way| {
            let counter = Counter::open(way);
            let reference = counter.shop.sell_and_deliver();
            // Open in a browser before the till thinks better of it.
            let visit = counter.enter(&reference);
            let link = counter.shop.order(&reference)["payment"]["link"].clone();
            let order = counter.shop.set_status(&reference, "canceled").json(200);
            assert_eq!(order["payment_status"], "canceled", "{order:#}");
            counter
                .shop
                .until(&reference, "the customer to be told", |order| {
                    message(order, "status.1")["status"] == "delivered"
                });
            match way.entrance {
                Entrance::Page(_) => {
                    let page = http::get(link.as_str().unwrap(), &[]);
                    assert_eq!(page.status, 302, "{}", page.text());
                }
                Entrance::Tap => return refused(&counter, &visit, "order_canceled"),
                Entrance::Link => refused(&counter, &visit, "not_payable"),
                Entrance::Intent => {}
            }
            counter.shop.until_next_second();
            visit.act("pay", json!({"late": true}));
            let order = counter.assert_held(&reference, "late_payment", 2);
            assert_eq!(order["payment_status"], "canceled");
        },
    );
}

#[track_caller]
fn refused(counter: &Counter, visit: &super::Visit<'_>, code: &str) {
    let url = format!("{}/_control/customer/pay", counter.url);
    let answer = http::post(&url, &[], &visit.who).json(409);
    assert_eq!(answer["error"], code, "{answer}");
}

#[test]
fn an_intent_that_was_sent_cannot_be_canceled_and_may_be_paid() {
    each(
        |way| !way.cancels,
        |way| {
            let counter = Counter::open(way);
            let reference = counter.shop.sell_and_deliver();
            let problem = counter.shop.set_status(&reference, "canceled").problem(422);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("unsupported"), "{problem:#}");
            counter.enter(&reference).act("pay", json!({}));
            counter.assert_paid(&reference);
        },
    );
}

#[test]
fn a_bill_that_is_paid_cannot_be_canceled() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        // The till does not know yet.
        counter.webhooks("drop_webhook");
        counter.enter(&reference).act("pay", json!({}));
        counter.shop.set_status(&reference, "canceled").problem(409);
        counter.assert_paid(&reference);
    });
}

#[test]
fn a_bill_expires_and_money_that_comes_then_is_held() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        let visit = counter.enter(&reference);
        counter.settle();
        counter.shop.age(&reference, 45);
        stack().reconcile();
        let order = counter
            .shop
            .until(&reference, "the bill to expire", |order| {
                order["payment_status"] == "expired"
            });
        if let Entrance::Page(_) = way.entrance {
            let page = http::get(order["payment"]["link"].as_str().unwrap(), &[]);
            assert_eq!(page.status, 302, "{}", page.text());
        }
        counter.shop.until_next_second();
        visit.act("pay", json!({"late": true}));
        let order = counter.assert_held(&reference, "late_payment", 1);
        assert_eq!(order["payment_status"], "expired");
    });
}
