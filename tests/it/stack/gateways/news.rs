//! What gateways tell: after a declined try, twice, in somebody else's name, with another amount.

use serde_json::{Value, json};

use super::{Counter, all, each};
use crate::stack::http;
use crate::stack::shop::{eventually, message, stack};

#[test]
fn a_bill_is_paid_after_a_try_that_failed() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        counter.enter(&reference).act("fail", json!({}));
        let order = counter
            .shop
            .until(&reference, "the failed try to be seen", |order| {
                order["payment_status"] == "failed"
            });
        assert_eq!(message(&order, "paid"), &json!(null));
        // A UPI intent is over when its one try has failed, unless the bank thinks better of it.
        let visit = counter.enter(&reference);
        visit.act("pay", json!({"late": !way.cancels}));
        counter.assert_paid(&reference);
    });
}

#[test]
fn news_that_comes_twice_counts_once() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        counter.webhooks("duplicate_webhook");
        counter.enter(&reference).act("pay", json!({}));
        counter.assert_paid(&reference);
        let again = eventually(|| {
            let told = counter.told();
            let hook = told.iter().find(|hook| hook["event"] == way.news)?;
            let attempts = hook["attempts"].as_array().unwrap();
            let good = attempts.iter().filter(|attempt| attempt["status"] == 200);
            (good.count() >= 2).then_some(())
        });
        assert!(again.is_some(), "the copy came as well");
        counter.assert_paid(&reference);
    });
}

#[test]
fn a_forged_webhook_changes_nothing_and_the_genuine_one_counts() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        counter.webhooks("drop_webhook");
        counter.enter(&reference).act("pay", json!({}));
        let told = counter.told();
        assert!(told.iter().any(|hook| hook["event"] == way.news));
        for hook in &told {
            for (how, hook) in [("altered", altered(hook)), ("unsigned", unsigned(hook))] {
                let status = deliver(&counter, &hook);
                assert_eq!(status, 401, "{how}: {hook:#}");
            }
        }
        let order = counter.shop.order(&reference);
        assert_eq!(order["payment_status"], "pending", "{order:#}");
        let news = told.iter().find(|hook| hook["event"] == way.news).unwrap();
        assert_eq!(deliver(&counter, news), 200, "{news:#}");
        counter.assert_paid(&reference);
    });
}

#[test]
fn one_paisa_less_is_held_and_the_customer_is_told_nothing() {
    each(all, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        let visit = counter.enter(&reference);
        visit.act("pay", json!({"amount": 84_999}));
        counter.assert_held(&reference, "amount_mismatch", 1);
    });
}

/// Sends a webhook as its record says.
fn deliver(counter: &Counter, hook: &Value) -> u16 {
    let source = hook["vendor"].as_str().unwrap();
    let url = format!("{}/webhooks/{source}/{}", stack().api_url, counter.shop.id);
    let headers: Vec<(&str, &str)> = hook["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let body = hook["raw_body"].as_str().unwrap().as_bytes();
    http::send("POST", &url, &headers, Some(body)).status
}

/// Where a vendor's signature stands.
enum Place {
    Header(&'static str),
    /// The field of a form.
    Field(&'static str),
    /// The third part of a token.
    Third,
}

fn place(hook: &Value) -> Place {
    match hook["vendor"].as_str().unwrap() {
        "razorpay" => Place::Header("x-razorpay-signature"),
        "meta" => Place::Header("x-hub-signature-256"),
        "payu" => Place::Field("hash"),
        "zaakpay" => Place::Field("checksum"),
        "billdesk" => Place::Third,
        other => panic!("where does {other} sign?"),
    }
}

/// The same with another signature, or none.
fn resigned(hook: &Value, sign: impl Fn(&str) -> Option<String>) -> Value {
    let mut hook = hook.clone();
    let body = hook["raw_body"].as_str().unwrap().to_owned();
    match place(&hook) {
        Place::Header(wanted) => {
            let headers = hook["headers"].as_object_mut().unwrap();
            let name = headers
                .keys()
                .find(|name| name.eq_ignore_ascii_case(wanted))
                .unwrap()
                .clone();
            let value = headers.remove(&name).unwrap();
            if let Some(other) = sign(value.as_str().unwrap()) {
                headers.insert(name, json!(other));
            }
        }
        Place::Field(name) => {
            let start = format!("{name}=");
            assert!(body.split('&').any(|pair| pair.starts_with(&start)));
            let pairs: Vec<String> = body
                .split('&')
                .filter_map(|pair| match pair.strip_prefix(&start) {
                    Some(value) => sign(value).map(|other| format!("{start}{other}")),
                    None => Some(pair.to_owned()),
                })
                .collect();
            hook["raw_body"] = json!(pairs.join("&"));
        }
        Place::Third => {
            let (signed, signature) = body.rsplit_once('.').unwrap();
            let other = sign(signature).unwrap_or_default();
            hook["raw_body"] = json!(format!("{signed}.{other}"));
        }
    }
    hook
}

fn altered(hook: &Value) -> Value {
    resigned(hook, |signature| {
        // In the middle: a prefix stays what it was, and the last letter of base64 may have spare bits.
        let middle = signature.len() / 2;
        let other = if signature.as_bytes()[middle] == b'0' {
            '1'
        } else {
            '0'
        };
        let (before, after) = signature.split_at(middle);
        Some(format!("{before}{other}{}", &after[1..]))
    })
}

fn unsigned(hook: &Value) -> Value {
    resigned(hook, |_| None)
}
