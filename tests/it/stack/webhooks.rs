//! What arrives from outside: forged, doubled, in any sequence, as any bytes.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::http;
use super::shop::{Shop, count, eventually, message, random, stack};

pub(super) const SIGNATURE: &str = "x-razorpay-signature";

type Headers<'a> = &'a [(&'a str, &'a str)];

pub(super) fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// A genuine webhook that never left the gateway: its body, and its signature.
pub(super) fn kept_back(shop: &Shop, event: &str, reference: &str) -> (Vec<u8>, String) {
    let hook = eventually(|| shop.hooks(event, reference).into_iter().next())
        .unwrap_or_else(|| panic!("the gateway never wrote a webhook {event}"));
    assert_ne!(hook["state"], "delivered", "{hook:#}");
    let body = hook["raw_body"].as_str().unwrap().as_bytes().to_vec();
    let signature = sign(&shop.webhook_secret, &body);
    (body, signature)
}

/// Keeps back every webhook of an order's payments.
pub(super) fn keep_back(shop: &Shop, reference: &str) {
    let fault = json!({"vendor": "razorpay", "kind": "drop_webhook", "times": null});
    shop.fault(reference, fault);
}

#[test]
fn a_forged_webhook_changes_nothing_and_the_genuine_one_still_counts() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    keep_back(&shop, &reference);
    shop.pay(&reference);
    let (body, signature) = kept_back(&shop, "payment_link.paid", &reference);
    let mut flipped = body.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let other = sign("another secret", &body);
    let longer = format!("{signature}00");
    let forgeries: [(&str, Headers<'_>, &[u8]); 6] = [
        ("without a signature", &[], &body),
        ("signed by somebody else", &[(SIGNATURE, &other)], &body),
        ("with one bit flipped", &[(SIGNATURE, &signature)], &flipped),
        ("with a longer signature", &[(SIGNATURE, &longer)], &body),
        (
            "with two signatures, the right one first",
            &[(SIGNATURE, &signature), (SIGNATURE, &other)],
            &body,
        ),
        (
            "with two signatures, the right one last",
            &[(SIGNATURE, &other), (SIGNATURE, &signature)],
            &body,
        ),
    ];
    for (how, headers, body) in forgeries {
        let reply = shop.hook("razorpay", headers, body);
        assert_eq!(reply.status, 401, "{how}: {}", reply.text());
        assert_eq!(reply.text(), "", "{how}: a forger learns nothing");
    }
    assert_eq!(shop.order(&reference)["payment_status"], "pending");
    let reply = shop.hook("razorpay", &[(SIGNATURE, &signature)], &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    shop.until_confirmed(&reference);
}

#[test]
fn a_webhook_that_comes_twice_counts_once() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    let twice = json!({"vendor": "razorpay", "kind": "duplicate_webhook", "times": null});
    shop.fault(&reference, twice);
    shop.pay(&reference);
    shop.until_confirmed(&reference);
    let done = eventually(|| {
        let hooks = shop.hooks("payment_link.paid", &reference);
        let attempts = hooks[0]["attempts"].as_array().unwrap();
        let good = attempts.iter().filter(|attempt| attempt["status"] == 200);
        (good.count() >= 2).then_some(())
    });
    assert!(done.is_some(), "the gateway delivers its copy");
    let order = shop.order(&reference);
    let captured = count(&order, "payment", |entry| entry["status"] == "captured");
    assert_eq!(captured, 1, "{order:#}");
    assert_eq!(shop.inbox(&shop.phone).len(), 2, "the bill and the news");
}

#[test]
fn no_sequence_of_webhooks_takes_a_payment_back() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    keep_back(&shop, &reference);
    shop.customer("fail", &reference, json!({}));
    shop.pay(&reference);
    let deliver = |event: &str| {
        let (body, signature) = kept_back(&shop, event, &reference);
        let reply = shop.hook("razorpay", &[(SIGNATURE, &signature)], &body);
        assert_eq!(reply.status, 200, "{event}: {}", reply.text());
        shop.order(&reference)["payment_status"].clone()
    };
    assert_eq!(deliver("payment.captured"), "captured");
    assert_eq!(deliver("payment.authorized"), "captured");
    assert_eq!(deliver("payment.failed"), "captured");
    assert_eq!(deliver("payment_link.paid"), "captured");
    let order = shop.until_confirmed(&reference);
    assert_eq!(order["payment"]["captured"]["value"], 85_000);
    assert_eq!(shop.inbox(&shop.phone).len(), 2);
}

#[test]
fn a_webhook_that_is_faster_than_its_order_is_only_a_hint() {
    let shop = Shop::open();
    let early = shop.sell_and_deliver();
    keep_back(&shop, &early);
    shop.pay(&early);
    let (body, _) = kept_back(&shop, "payment_link.paid", &early);
    // The same news about an order nobody has posted yet: other names, as long as the old ones.
    let mut bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap().to_owned();
    let mut news: Value = serde_json::from_slice(&body).unwrap();
    news["payload"]["payment"]["entity"]["id"] = json!(format!("pay_{}", random(14)));
    let text = news.to_string().replace(&early, &reference);
    let signature = sign(&shop.webhook_secret, text.as_bytes());
    let reply = shop.hook("razorpay", &[(SIGNATURE, &signature)], text.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    bill["notes"] = json!({"till": "2"});
    let answer = shop.post(&bill).json(201);
    assert_eq!(answer["payment_status"], "pending", "{answer:#}");
    // It was about a link that is not this order's, so it makes nobody pay, and this order's own link is asked.
    let order = shop.order(&reference);
    assert_eq!(order["payment_status"], "pending", "{order:#}");
    assert_eq!(message(&order, "paid"), &json!(null), "{order:#}");
    shop.pay(&reference);
    shop.until_confirmed(&reference);
}

#[test]
fn a_body_is_verified_as_the_bytes_that_were_sent() {
    let shop = Shop::open();
    // Not UTF-8: a front door that decoded it as text would have changed what was signed.
    let body = b"{\"event\":\"\xff\xfe\x00 not text\"}";
    let signature = sign(&shop.webhook_secret, body);
    let reply = shop.hook("razorpay", &[(SIGNATURE, &signature)], body);
    assert_eq!(reply.status, 200, "genuine, though nobody can read it");
    let other = sign(&shop.app_secret, body);
    let reply = shop.hook("razorpay", &[(SIGNATURE, &other)], body);
    assert_eq!(reply.status, 401);
    // Space that JSON does not mind was signed too.
    let spaced = b"{ \"event\" :\n\t\"payment.unheard_of\" , \"payload\": { } }\n";
    let signature = sign(&shop.webhook_secret, spaced);
    let reply = shop.hook("razorpay", &[(SIGNATURE, &signature)], spaced);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn while_secrets_change_the_previous_ones_still_count() {
    let shop = Shop::with(|plan| {
        let payment = &mut plan.document["payment"]["credentials"]["webhook_secrets"];
        *payment = json!(["not used by the gateway yet", payment[0]]);
        let channel = &mut plan.document["channel"]["credentials"]["app_secrets"];
        *channel = json!(["not used by Meta yet", channel[0]]);
    });
    // The bill's delivery report is Meta's, the payment is Razorpay's.
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    shop.until_confirmed(&reference);
}

#[test]
fn meta_is_answered_with_its_challenge_only_for_the_right_token() {
    let shop = Shop::open();
    let url = |token: &str| {
        format!(
            "{}/webhooks/meta/{}?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}",
            stack().api_url,
            shop.id
        )
    };
    let right = http::get(&url(&shop.verify_token), &[]);
    assert_eq!((right.status, right.text().as_str()), (200, "1158201444"));
    let wrong = http::get(&url("guess"), &[]);
    assert_eq!((wrong.status, wrong.text().as_str()), (403, ""));
}

#[test]
fn nobody_listens_at_the_address_of_another_vendor_or_of_no_tenant() {
    let shop = Shop::open();
    for source in ["payu", "exotel", "nobody"] {
        shop.hook(source, &[], b"{}").problem(404);
    }
    let url = format!("{}/webhooks/razorpay/no-such-shop", stack().api_url);
    http::post(&url, &[], &json!({})).problem(404);
}
