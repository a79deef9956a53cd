//! Gateways that are down: while the bill is made, and after.

use serde_json::json;

use super::{Counter, Way, all, each};
use crate::stack::shop::stack;

fn makes(way: &Way) -> bool {
    way.makes.is_some()
}

fn down() -> serde_json::Value {
    json!({"kind": "status", "status": 503, "times": null})
}

#[test]
fn a_till_that_asks_again_gets_the_bill_its_gateway_could_not_make() {
    each(makes, |way| {
        let counter = Counter::open(way);
        let shop = &counter.shop;
        let bill = shop.bill();
        let reference = bill["reference_id"].as_str().unwrap();
        counter.fault(way.gateway, down());
        let reply = shop.post(&bill);
        reply.problem(503);
        let wait: u32 = reply.header("retry-after").parse().unwrap();
        assert!(wait > 0);
        assert_eq!(shop.inbox(&shop.phone).len(), 0);
        counter.mend();
        let answer = shop.post(&bill);
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
        shop.until(reference, "the bill to be delivered", |order| {
            order["delivery"]["status"] == "delivered"
        });
        counter.enter(reference).act("pay", json!({}));
        counter.assert_paid(reference);
    });
}

/// A BillDesk intent needs the till's address and browser, which only the till can tell again; see docs/providers.md.
#[test]
fn a_bill_whose_till_never_came_back_is_made_by_reconcile() {
    let can = |way: &Way| makes(way) && way.mode != "upi_intent";
    each(can, |way| {
        let counter = Counter::open(way);
        let shop = &counter.shop;
        let bill = shop.bill();
        let reference = bill["reference_id"].as_str().unwrap();
        // The second answer is lost: at the gateway there is something that nobody here knows of.
        let operation = way.makes.unwrap();
        let lost = json!({"kind": "reset_after", "operation": operation});
        counter.fault(way.gateway, lost);
        counter.fault(way.gateway, down());
        shop.post(&bill).problem(503);
        counter.mend();
        shop.age(reference, 2);
        stack().reconcile();
        shop.until(reference, "the bill to be delivered", |order| {
            order["delivery"]["status"] == "delivered"
        });
        counter.enter(reference).act("pay", json!({}));
        counter.assert_paid(reference);
    });
}

#[test]
fn where_there_is_nothing_to_make_a_gateway_that_is_down_keeps_no_bill_back() {
    each(
        |way| !makes(way),
        |way| {
            let counter = Counter::open(way);
            counter.fault(way.gateway, down());
            let reference = counter.shop.sell_and_deliver();
            counter.mend();
            counter.enter(&reference).act("pay", json!({}));
            counter.assert_paid(&reference);
        },
    );
}

/// What the webhook proves counts at once; what it only hints at is asked about until there is an answer.
#[test]
fn news_of_a_gateway_that_cannot_be_asked_counts_in_the_end() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        let visit = counter.enter(&reference);
        let few = json!({"kind": "status", "status": 503, "times": 2});
        counter.fault(way.gateway, few);
        visit.act("pay", json!({}));
        counter.assert_paid(&reference);
    });
}

#[test]
fn a_payment_nobody_told_of_is_found_once_its_gateway_can_be_asked() {
    each(all, |way| {
        let counter = Counter::open(way);
        let shop = &counter.shop;
        let reference = shop.sell_and_deliver();
        counter.webhooks("drop_webhook");
        counter.enter(&reference).act("pay", json!({}));
        counter.fault(way.teller(), down());
        shop.age(&reference, 6);
        stack().reconcile();
        assert_eq!(shop.order(&reference)["payment_status"], "pending");
        counter.mend();
        counter.webhooks("drop_webhook");
        shop.age(&reference, 1);
        stack().reconcile();
        counter.assert_paid(&reference);
    });
}
