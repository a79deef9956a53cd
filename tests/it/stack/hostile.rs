//! What nobody does by accident, sent to the deployed stack. `tests/it/hostile.rs` has the whole list; what stood elsewhere
//! already is not repeated here.

use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sandbox::Sandbox;
use serde_json::{Value, json};

use super::http::{self, Reply};
use super::shop::{Shop, count, held, message, random, secret, stack};
use super::webhooks::{SIGNATURE, keep_back, kept_back, sign};

/// An order that is paid, of which the gateway has told nobody: its shop, its reference, and the webhook that would tell, with its
/// signature.
struct Untold {
    shop: Shop,
    reference: String,
    body: Vec<u8>,
    signature: String,
}

impl Untold {
    fn new() -> Self {
        let shop = Shop::open();
        let reference = shop.sell_and_deliver();
        keep_back(&shop, &reference);
        shop.pay(&reference);
        let (body, signature) = kept_back(&shop, "payment_link.paid", &reference);
        Self {
            shop,
            reference,
            body,
            signature,
        }
    }

    fn hook(&self, signatures: &[&str], body: &[u8]) -> Reply {
        let headers: Vec<(&str, &str)> = signatures.iter().map(|s| (SIGNATURE, *s)).collect();
        self.shop.hook("razorpay", &headers, body)
    }

    /// A forgery is refused without a word and changes nothing.
    #[track_caller]
    fn refuses(&self, signatures: &[&str], body: &[u8]) {
        let reply = self.hook(signatures, body);
        assert_eq!((reply.status, reply.text().as_str()), (401, ""));
        let order = self.shop.order(&self.reference);
        assert_eq!(order["payment_status"], "pending");
        assert_eq!(count(&order, "payment", |_| true), 0, "{order:#}");
    }

    /// What the gateway really sent still counts afterwards.
    #[track_caller]
    fn takes_the_genuine_one(&self) {
        let reply = self.hook(&[&self.signature], &self.body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let order = self.shop.order(&self.reference);
        assert_eq!(order["payment_status"], "captured");
    }

    /// The same news with something changed by the gateway itself: signed rightly.
    fn signed(&self, change: impl FnOnce(&mut Value)) -> (Vec<u8>, String) {
        let mut news = serde_json::from_slice(&self.body).unwrap();
        change(&mut news);
        let body = news.to_string().into_bytes();
        let signature = sign(&self.shop.webhook_secret, &body);
        (body, signature)
    }
}

/// Posts these bytes as a bill.
fn post_bytes(shop: &Shop, body: &[u8]) -> Reply {
    let url = format!("{}/invoices", stack().api_url);
    let headers = [
        ("x-api-key", shop.key.as_str()),
        ("content-type", "application/json"),
    ];
    http::send("POST", &url, &headers, Some(body))
}

/// The pointers of a refused bill's faults.
#[track_caller]
fn faults(reply: &Reply) -> Vec<String> {
    let problem = reply.problem(400);
    let errors = problem["errors"].as_array().unwrap();
    let pointers = errors.iter().map(|e| e["pointer"].as_str().unwrap());
    pointers.map(str::to_owned).collect()
}

/// The refunds that the gateway was asked for. A call whose answer was cut off is known by its body alone.
fn refunds_asked(shop: &Shop, reference: &str) -> usize {
    let calls = shop.seen("received?vendor=razorpay&operation=create_refund");
    let calls = calls["received"].as_array().unwrap().iter();
    calls
        .filter(|call| call["body"]["notes"]["chatbill_reference"] == reference)
        .count()
}

/// Nothing came of what was refused: no order, no link, no message.
#[track_caller]
fn nothing_came_of(shop: &Shop, reference: &str) {
    shop.call("GET", &format!("/invoices/{reference}"), None)
        .problem(404);
    assert!(shop.received("create_payment_link", reference).is_empty());
    assert!(shop.inbox(&shop.phone).is_empty());
}

// ---- Forged webhooks ---------------------------------------------------------------------------------------------------

#[test]
fn one_space_more_makes_a_webhook_a_forgery() {
    let untold = Untold::new();
    let text = String::from_utf8(untold.body.clone()).unwrap();
    for changed in [
        format!("{text} "),
        format!(" {text}"),
        format!("{text}\n"),
        text.replacen("\":", "\": ", 1),
    ] {
        assert_eq!(changed.len(), text.len() + 1);
        untold.refuses(&[&untold.signature], changed.as_bytes());
    }
    untold.takes_the_genuine_one();
}

#[test]
fn an_upper_case_signature_is_a_forgery() {
    let untold = Untold::new();
    let upper = untold.signature.to_uppercase();
    assert_ne!(upper, untold.signature);
    untold.refuses(&[&upper], &untold.body);
    // Meta's too.
    let signature = sign(&untold.shop.app_secret, b"{}").to_uppercase();
    for signature in [
        format!("sha256={signature}"),
        format!("SHA256={}", signature.to_lowercase()),
    ] {
        let headers = [("x-hub-signature-256", signature.as_str())];
        assert_eq!(untold.shop.hook("meta", &headers, b"{}").status, 401);
    }
    untold.takes_the_genuine_one();
}

#[test]
fn a_signature_of_another_length_is_a_forgery() {
    let untold = Untold::new();
    let genuine = untold.signature.as_str();
    for wrong in [
        &genuine[..63],
        &genuine[..32],
        &genuine[1..],
        "0",
        &format!("{genuine}0"),
        &format!("{genuine}{genuine}"),
        &genuine.repeat(100),
    ] {
        untold.refuses(&[wrong], &untold.body);
    }
    untold.takes_the_genuine_one();
}

#[test]
fn a_missing_signature_is_a_forgery() {
    let untold = Untold::new();
    untold.refuses(&[], &untold.body);
    untold.refuses(&[""], &untold.body);
    for headers in [&[][..], &[("x-hub-signature-256", "sha256=")]] {
        assert_eq!(untold.shop.hook("meta", headers, b"{}").status, 401);
    }
    untold.takes_the_genuine_one();
}

#[test]
fn a_doubled_signature_is_a_forgery() {
    let untold = Untold::new();
    let genuine = untold.signature.as_str();
    let other = sign("another secret", &untold.body);
    untold.refuses(&[genuine, &other], &untold.body);
    untold.refuses(&[&other, genuine], &untold.body);
    untold.refuses(&[genuine, genuine], &untold.body);
    untold.refuses(&[&format!("{genuine}, {genuine}")], &untold.body);
    untold.takes_the_genuine_one();
}

// ---- Genuine webhooks, misused -----------------------------------------------------------------------------------------

/// As many senders as are let in at once repeat one webhook until there were a thousand of it.
#[test]
fn a_thousand_replays_at_once_are_one_payment() {
    let untold = Untold::new();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let reply = untold.hook(&[&untold.signature], &untold.body);
                        assert_eq!(reply.status, 200, "{}", reply.text());
                    }
                })
            })
            .collect();
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    });
    let order = untold.shop.until_confirmed(&untold.reference);
    assert_eq!(count(&order, "payment", |_| true), 1, "{order:#}");
    assert_eq!(order["payment"]["captured"]["value"], 85_000);
    assert_eq!(held(&order), [""; 0]);
    assert_eq!(untold.shop.inbox(&untold.shop.phone).len(), 2);
}

#[test]
fn a_replay_after_thirty_days_changes_nothing() {
    let untold = Untold::new();
    // The confirmation's delivery report is lost, so that the order is still due and can be aged.
    let silent = json!({"vendor": "meta", "kind": "drop_webhook", "times": null});
    untold.shop.fault(&untold.reference, silent);
    untold.takes_the_genuine_one();
    untold
        .shop
        .until(&untold.reference, "the confirmation to be sent", |order| {
            message(order, "paid")["status"] == "sent"
        });
    untold.shop.age(&untold.reference, 31 * 24 * 60);
    let before = untold.shop.order(&untold.reference);
    let reply = untold.hook(&[&untold.signature], &untold.body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    // News of the same payment under another event is no news either.
    let (body, signature) = kept_back(&untold.shop, "payment.captured", &untold.reference);
    let reply = untold.hook(&[&signature], &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(untold.shop.order(&untold.reference), before);
    assert_eq!(untold.shop.inbox(&untold.shop.phone).len(), 2);
}

#[test]
fn a_payment_in_another_currency_pays_nothing() {
    let untold = Untold::new();
    for currency in ["USD", "inr", ""] {
        let (body, signature) = untold.signed(|news| {
            news["payload"]["payment"]["entity"]["currency"] = json!(currency);
            news["payload"]["payment"]["entity"]["id"] = json!(format!("pay_{}", random(14)));
        });
        let reply = untold.hook(&[&signature], &body);
        assert_eq!(reply.status, 200, "{currency}: {}", reply.text());
        let order = untold.shop.order(&untold.reference);
        assert_eq!(order["payment_status"], "pending", "{currency}");
        assert_eq!(message(&order, "paid"), &json!(null), "{currency}");
    }
    let order = untold.shop.order(&untold.reference);
    assert!(!held(&order).is_empty(), "{order:#}");
    assert!(
        held(&order).iter().all(|why| *why == "currency_mismatch"),
        "{order:#}"
    );
}

#[test]
fn a_payment_of_no_known_order_touches_no_other() {
    let untold = Untold::new();
    let nobody = format!("T-{}", random(10).to_uppercase());
    let (body, _) = untold.signed(|news| {
        news["payload"]["payment"]["entity"]["id"] = json!(format!("pay_{}", random(14)));
    });
    let body = String::from_utf8(body).unwrap();
    // Also a reference that no order can have.
    for reference in [nobody.as_str(), "../../etc/passwd", &"x".repeat(5000), ""] {
        let body = body.replace(&untold.reference, reference);
        let signature = sign(&untold.shop.webhook_secret, body.as_bytes());
        let reply = untold.hook(&[&signature], body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let path = format!("/invoices/{nobody}");
    untold.shop.call("GET", &path, None).problem(404);
    let order = untold.shop.order(&untold.reference);
    assert_eq!(order["payment_status"], "pending");
    untold.takes_the_genuine_one();
}

// ---- Bills -------------------------------------------------------------------------------------------------------------

/// Fifty tills post under one number, half of them another bill than the others: the first one makes the order.
#[test]
fn fifty_parallel_bills_of_one_number_make_one_order() {
    let shop = Shop::open();
    let bill = shop.bill();
    let mut other = bill.clone();
    other["items"][0]["name"] = json!("Basmati 10 kg");
    let reference = bill["reference_id"].as_str().unwrap();
    let replies: Vec<(usize, Reply)> = thread::scope(|scope| {
        let tills: Vec<_> = (0..50)
            .map(|till| {
                let bill = if till % 2 == 0 { &bill } else { &other };
                scope.spawn(|| shop.post(bill))
            })
            .collect();
        let replies = tills.into_iter().map(|till| till.join().unwrap());
        replies.enumerate().collect()
    });
    // At most one is told that the order is new; none, when the store's answer to that one was lost and its write repeated.
    let told = |status: u16| {
        let tills = replies.iter().filter(move |(_, r)| r.status == status);
        tills.map(|(till, _)| till % 2).collect::<Vec<usize>>()
    };
    let (new, same, conflicts) = (told(201), told(200), told(409));
    let seen = format!("{new:?} {same:?} {conflicts:?}");
    assert!(new.len() <= 1, "{seen}");
    let mut won = [new, same].concat();
    assert_eq!((won.len(), conflicts.len()), (25, 25), "{seen}");
    won.dedup();
    assert_eq!(won.len(), 1, "{seen}");
    assert!(!conflicts.contains(&won[0]), "{seen}");
    shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    assert_eq!(shop.inbox(&shop.phone).len(), 1, "one message");
}

#[test]
fn an_idempotency_key_that_another_shop_uses_too_is_another_key() {
    let (one, other) = (Shop::open(), Shop::open());
    let key = format!("till-1/{}", random(8));
    let post = |shop: &Shop, quantity: i64| {
        let mut bill = shop.bill();
        bill.as_object_mut().unwrap().remove("reference_id");
        bill["items"][0]["quantity"] = json!(quantity);
        bill["total_amount"]["value"] = json!(42_000 * quantity + 1_000);
        let headers = [
            ("x-api-key", shop.key.as_str()),
            ("idempotency-key", key.as_str()),
        ];
        http::post(&format!("{}/invoices", stack().api_url), &headers, &bill)
    };
    let mine = post(&one, 1).json(201);
    let theirs = post(&other, 3).json(201);
    assert_eq!(mine["total_amount"]["value"], 43_000);
    assert_eq!(theirs["total_amount"]["value"], 127_000);
    assert_ne!(mine["receipt_url"], theirs["receipt_url"]);
    assert_ne!(mine["payment"]["link"], theirs["payment"]["link"]);
    // Each is still only the answer to its own shop.
    assert_eq!(post(&one, 1).json(200)["receipt_url"], mine["receipt_url"]);
    post(&one, 3).problem(409);
}

#[test]
fn no_reference_escapes_its_rule() {
    let shop = Shop::open();
    let longest = format!("{}-{}", "x".repeat(22), random(12));
    assert_eq!(longest.len(), 35);
    for reference in [
        format!("{longest}x").as_str(),
        "",
        " ",
        "..",
        "../",
        "../../r/x",
        "..%2F..%2Fx",
        "चावल-12",
        "Ｔ-１",
        "T\u{202E}1",
        "T 1",
        "T\u{0}1",
        "T#order",
        "{{7*7}}",
    ] {
        let mut bill = shop.bill();
        bill["reference_id"] = json!(reference);
        assert_eq!(
            faults(&shop.post(&bill)),
            ["/reference_id"],
            "{reference:?}"
        );
    }
    for path in ["..%2F..%2Fwebhooks", "%2e%2e", "%00", &"x".repeat(36)] {
        let reply = shop.call("GET", &format!("/invoices/{path}"), None);
        assert!(matches!(reply.status, 400 | 404), "{path}: {reply:?}");
    }
    assert!(shop.inbox(&shop.phone).is_empty());
    let mut bill = shop.bill();
    bill["reference_id"] = json!(longest);
    shop.post(&bill).json(201);
}

#[test]
fn no_number_overflows_or_is_rounded() {
    let shop = Shop::open();
    let bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap();
    // As texts, because these numbers must arrive as they are written here.
    let with = |from: &str, to: &str| {
        let text = bill.to_string();
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        post_bytes(&shop, changed.as_bytes())
    };
    let total = "\"value\":85000";
    let price = "\"value\":42000";
    for (from, to, pointer) in [
        (total, "\"value\":9223372036854775807", "/total_amount"),
        (
            total,
            "\"value\":9223372036854775808",
            "/total_amount/value",
        ),
        (
            total,
            "\"value\":18446744073709551617",
            "/total_amount/value",
        ),
        (total, "\"value\":-85000", "/total_amount/value"),
        (total, "\"value\":85000.0", "/total_amount/value"),
        (total, "\"value\":8.5e4", "/total_amount/value"),
        (total, "\"value\":\"85000\"", "/total_amount/value"),
        (price, "\"value\":9223372036854775807", "/"),
        (price, "\"value\":4611686018427387904", "/"),
        (price, "\"value\":-42000", "/items/0/sale_amount/value"),
        ("\"value\":1000", "\"value\":9223372036854775807", "/"),
        ("\"value\":1000", "\"value\":-1000", "/tax/value"),
        ("\"quantity\":2", "\"quantity\":0", "/items/0/quantity"),
        ("\"quantity\":2", "\"quantity\":-2", "/items/0/quantity"),
        ("\"quantity\":2", "\"quantity\":1.5", "/items/0/quantity"),
        ("\"quantity\":2", "\"quantity\":2.0", "/items/0/quantity"),
        (
            "\"quantity\":2",
            "\"quantity\":4294967298",
            "/items/0/quantity",
        ),
        (
            "\"quantity\":2",
            "\"quantity\":9223372036854775807",
            "/items/0/quantity",
        ),
        (
            "\"expires_in\":1800",
            "\"expires_in\":9223372036854775807",
            "/expires_in",
        ),
        ("\"expires_in\":1800", "\"expires_in\":-1", "/expires_in"),
    ] {
        let found = faults(&with(from, to));
        assert!(
            found.iter().any(|found| found.starts_with(pointer)),
            "{to}: {found:?}"
        );
    }
    nothing_came_of(&shop, reference);
}

#[test]
fn ten_thousand_items_are_refused() {
    let shop = Shop::open();
    let mut bill = shop.bill();
    let reference = bill["reference_id"].as_str().unwrap().to_owned();
    let item = json!({"name": "x", "quantity": 1, "amount": {"value": 1, "offset": 100}});
    let sold = bill.as_object_mut().unwrap();
    sold.remove("tax");
    sold.insert("items".to_owned(), json!(vec![item.clone(); 10_000]));
    sold["total_amount"]["value"] = json!(10_000);
    assert_eq!(shop.post(&bill).problem(413)["code"], "body_too_large");
    // As many as fit into the largest body that is read.
    bill["items"] = json!(vec![item; 4000]);
    bill["total_amount"]["value"] = json!(4000);
    assert!(faults(&shop.post(&bill)).contains(&"/items".to_owned()));
    nothing_came_of(&shop, &reference);
}

// ---- Refunds -----------------------------------------------------------------------------------------------------------

#[test]
fn two_refunds_of_sixty_percent_at_once_are_one() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    shop.until_confirmed(&reference);
    let path = format!("/invoices/{reference}/refunds");
    let ask = |id: &str| {
        let part = json!({"refund_id": id, "amount": {"value": 51_000, "offset": 100}});
        shop.call("POST", &path, Some(&part))
    };
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(|| ask("b"));
        (ask("a"), second.join().unwrap())
    });
    let (taken, refused) = if first.status == 409 {
        (second, first)
    } else {
        (first, second)
    };
    taken.json(201);
    assert_eq!(refused.problem(409)["code"], "refund_exceeds_captured");
    let order = shop.until(&reference, "the refund to be seen", |order| {
        order["payment_status"] == "partially_refunded"
    });
    assert_eq!(order["payment"]["refunded"]["value"], 51_000, "{order:#}");
    assert_eq!(refunds_asked(&shop, &reference), 1);
}

#[test]
fn a_refund_whose_answer_was_lost_after_it_was_accepted_is_made_once() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    shop.until_confirmed(&reference);
    let lost = json!({"vendor": "razorpay", "operation": "create_refund", "kind": "timeout_after", "delay_ms": 300});
    shop.fault(&reference, lost);
    let path = format!("/invoices/{reference}/refunds");
    let part = json!({"refund_id": "a", "amount": {"value": 51_000, "offset": 100}});
    for _ in 0..3 {
        let reply = shop.call("POST", &path, Some(&part));
        assert!(matches!(reply.status, 200..=202), "{}", reply.text());
    }
    let order = shop.until(&reference, "the refund to be seen", |order| {
        order["payment_status"] == "partially_refunded"
    });
    assert_eq!(order["payment"]["refunded"]["value"], 51_000, "{order:#}");
    assert_eq!(refunds_asked(&shop, &reference), 1);
}

/// Field report B18: the account's balance does not cover the refund today.
#[test]
fn a_refund_short_of_balance_goes_on_once_it_is_topped_up() {
    let shop = Shop::open();
    let reference = shop.sell_and_deliver();
    shop.pay(&reference);
    shop.until_confirmed(&reference);
    let hold = |balance: Value| {
        let account = json!({"razorpay": {"key_id": shop.key_id, "balance": balance}});
        shop.control("accounts", &account);
    };
    hold(json!(50_999));
    let path = format!("/invoices/{reference}/refunds");
    let part = json!({"refund_id": "a", "amount": {"value": 51_000, "offset": 100}});
    let made = shop.call("POST", &path, Some(&part)).json(201);
    assert_eq!(made["status"], "pending", "{made:#}");
    assert_eq!(made["reason"], "insufficient_balance", "{made:#}");
    let again = shop.call("POST", &path, Some(&part)).json(200);
    assert_eq!(again, made);
    assert_eq!(refunds_asked(&shop, &reference), 1);
    let order = shop.order(&reference);
    assert_eq!(order["payment_status"], "captured", "{order:#}");
    assert_eq!(order["payment"]["refunding"]["value"], 51_000, "{order:#}");

    hold(json!(51_000));
    shop.age(&reference, 2);
    stack().reconcile();
    let order = shop.until(&reference, "the refund to be seen", |order| {
        order["payment_status"] == "partially_refunded"
    });
    assert_eq!(order["payment"]["refunded"]["value"], 51_000, "{order:#}");
    let calls = shop.seen("received?vendor=razorpay&operation=create_refund");
    let keys: Vec<&Value> = calls["received"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| call["body"]["notes"]["chatbill_reference"] == reference.as_str())
        .map(|call| &call["body"]["receipt"])
        .collect();
    assert_eq!((keys.len(), keys[0]), (2, keys[1]), "{calls:#}");
}

/// The gateway tells of a refund before it tells of the payment.
#[test]
fn a_refund_that_is_told_before_its_payment_counts_and_stays() {
    let untold = Untold::new();
    let (shop, reference) = (&untold.shop, untold.reference.as_str());
    let news: Value = serde_json::from_slice(&untold.body).unwrap();
    let payment = &news["payload"]["payment"]["entity"]["id"];
    let back = json!({"vendor": "razorpay", "payment_id": payment, "amount": 20_000});
    shop.control("refunds", &back);
    let (body, signature) = kept_back(shop, "refund.processed", reference);
    assert_eq!(untold.hook(&[&signature], &body).status, 200);
    let order = shop.order(reference);
    assert_eq!(order["payment_status"], "partially_refunded", "{order:#}");
    for event in [
        "payment.authorized",
        "payment.captured",
        "payment_link.paid",
    ] {
        let (body, signature) = kept_back(shop, event, reference);
        assert_eq!(untold.hook(&[&signature], &body).status, 200, "{event}");
        let order = shop.order(reference);
        assert_eq!(order["payment_status"], "partially_refunded", "{event}");
    }
    let order = shop.order(reference);
    assert_eq!(order["payment"]["captured"]["value"], 85_000);
    assert_eq!(order["payment"]["refunded"]["value"], 20_000);
}

// ---- What customers see ------------------------------------------------------------------------------------------------

#[test]
fn a_receipt_token_opens_one_receipt_of_one_shop() {
    let (one, other) = (Shop::open(), Shop::open());
    let mut bill = one.bill();
    let mine = one.post(&bill).json(201);
    bill["items"][0]["quantity"] = json!(1);
    bill["total_amount"]["value"] = json!(43_000);
    let theirs = other.post(&bill).json(201);
    let (base, token) = mine["receipt_url"]
        .as_str()
        .unwrap()
        .rsplit_once('/')
        .unwrap();
    let their = theirs["receipt_url"].as_str().unwrap();
    let their = their.rsplit_once('/').unwrap().1;
    let (name, code) = token.split_once('.').unwrap();
    let (their_name, their_code) = their.split_once('.').unwrap();
    let renamed = |name: String| format!("{}.{code}", URL_SAFE_NO_PAD.encode(name));
    let reference = bill["reference_id"].as_str().unwrap();
    let wrong = [
        format!("{name}.{their_code}"),
        format!("{their_name}.{code}"),
        renamed(format!("{}/{reference}", other.id)),
        renamed(format!("{}/{reference}-2", one.id)),
        renamed(format!("{}//{reference}", one.id)),
        token[..token.len() - 1].to_owned(),
        token[..token.len() - 2].to_owned(),
        token[1..].to_owned(),
        format!("{name}."),
        name.to_owned(),
        format!("{token}A"),
        format!("{token}."),
        format!("{token}="),
        format!("{token}.{code}"),
        format!("{token}%00"),
        token.repeat(20),
    ];
    for wrong in wrong {
        for part in ["", "/pay", "/qr.png"] {
            let reply = http::get(&format!("{base}/{wrong}{part}"), &[]);
            assert_eq!(reply.status, 404, "{wrong}{part}: {}", reply.text());
            let text = reply.text();
            assert!(!text.contains("850.00") && !text.contains("430.00"));
        }
    }
    for (token, own, foreign) in [(token, "850.00", "430.00"), (their, "430.00", "850.00")] {
        let page = http::get(&format!("{base}/{token}"), &[]);
        assert_eq!(page.status, 200);
        assert!(page.text().contains(own) && !page.text().contains(foreign));
    }
}

#[test]
fn html_and_turned_text_in_names_stay_text() {
    let shop = Shop::with(|plan| {
        plan.document["display_name"] = json!("<b onclick=x>Shop</b> \u{202E}pohS");
    });
    let mut bill = shop.bill();
    let name = "<script>alert(1)</script>\"'&\u{202E}00.1\u{2066}";
    bill["customer"]["name"] = json!(name);
    bill["items"][0]["name"] = json!(name);
    bill["tax"]["description"] = json!(name);
    let answer = shop.post(&bill).json(201);
    let reference = bill["reference_id"].as_str().unwrap();
    // The provider takes the message as it is.
    shop.until(reference, "the bill to be delivered", |order| {
        order["delivery"]["status"] == "delivered"
    });
    let page = http::get(answer["receipt_url"].as_str().unwrap(), &[]).text();
    for trouble in ["<script", "<b ", "\u{202E}", "\u{2066}", "alert(1)</"] {
        assert!(!page.contains(trouble), "{trouble:?} in {page}");
    }
    assert!(page.contains("alert(1)"), "shown as text: {page}");
    // In the message the name stands beside the amount, which must read as it is.
    let calls = shop.received("send_message", reference);
    let template = &calls[0]["body"]["template"]["components"];
    let body = template.as_array().unwrap().iter();
    let body = body
        .into_iter()
        .find(|part| part["type"] == "body")
        .unwrap();
    let shown = body["parameters"].to_string();
    assert!(shown.contains("<script>alert(1)</script>"), "{shown}");
    assert!(!shown.contains(['\u{202E}', '\u{2066}']), "{shown}");
}

// ---- Bodies ------------------------------------------------------------------------------------------------------------

#[test]
fn bodies_too_large_or_too_deep_hurt_nobody() {
    let untold = Untold::new();
    let shop = &untold.shop;
    let huge = format!("{{\"body\":\"{}\"}}", "x".repeat(6 * 1024 * 1024));
    assert_eq!(post_bytes(shop, huge.as_bytes()).status, 413);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let unclosed = "[".repeat(10_000);
    let objects = "{\"a\":".repeat(10_000);
    for body in [&deep, &unclosed, &objects] {
        post_bytes(shop, body.as_bytes()).problem(400);
        // Nobody's forgery is parsed, and what is genuine but unreadable is acknowledged.
        assert_eq!(untold.hook(&["00"], body.as_bytes()).status, 401);
        let signature = sign(&shop.webhook_secret, body.as_bytes());
        let reply = untold.hook(&[&signature], body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let reply = untold.hook(&["00"], huge.as_bytes());
    assert!(matches!(reply.status, 401 | 413), "{}", reply.text());
    let order = shop.order(&untold.reference);
    assert_eq!(order["payment_status"], "pending");
    untold.takes_the_genuine_one();
}

#[test]
fn bodies_that_are_not_quite_json_are_refused() {
    let untold = Untold::new();
    let shop = &untold.shop;
    let text = shop.bill().to_string();
    let inside = text.find("Basmati").unwrap();
    let mut invalid = text.clone().into_bytes();
    invalid[inside] = 0xFF;
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [
        format!("\u{FEFF}{text}").into_bytes(),
        invalid,
        utf16,
        text.replacen('{', "{\"currency\":\"INR\",", 1).into_bytes(),
        text.replacen("\"quantity\":2", "\"quantity\":2,\"quantity\":1", 1)
            .into_bytes(),
        format!("{text}{text}").into_bytes(),
        format!("{text},").into_bytes(),
        text.replacen("\"Basmati", "\"\\ud800Basmati", 1)
            .into_bytes(),
    ] {
        post_bytes(shop, &body).problem(400);
    }
    // The same in webhooks that are signed rightly.
    let news = String::from_utf8(untold.body.clone()).unwrap();
    let mut invalid = untold.body.clone();
    invalid[news.find("payment_link.paid").unwrap()] = 0xFF;
    for body in [format!("\u{FEFF}{news}").into_bytes(), invalid] {
        let signature = sign(&shop.webhook_secret, &body);
        assert_eq!(untold.hook(&[&signature], &body).status, 200);
        let order = shop.order(&untold.reference);
        assert_eq!(order["payment_status"], "pending");
    }
    untold.takes_the_genuine_one();
}

// ---- Time and secrets --------------------------------------------------------------------------------------------------

/// Gateway and provider are ten minutes ahead, then ten minutes behind. Their clocks are moved, so they are of this test's own.
#[test]
fn a_vendor_s_clock_may_be_ten_minutes_off() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    for seconds in [600, -600] {
        let vendors = runtime.block_on(Sandbox::start()).unwrap();
        let shop = Shop::at(&vendors.url(), |_| ());
        shop.control("clock", &json!({"advance_seconds": seconds}));
        let reference = shop.sell_and_deliver();
        shop.pay(&reference);
        let order = shop.until_confirmed(&reference);
        assert_eq!(held(&order), [""; 0], "{seconds}: {order:#}");
        let path = format!("/invoices/{reference}/refunds");
        shop.call("POST", &path, Some(&json!({}))).json(201);
        shop.until(&reference, "the refund to be seen", |order| {
            order["payment_status"] == "refunded"
        });
    }
}

/// The tenant document has the new and the old secret; the gateway changes over while a webhook is on its way.
#[test]
fn a_secret_changes_while_webhooks_are_on_their_way() {
    let next = secret(24);
    let shop = Shop::with(|plan| {
        let secrets = &mut plan.document["payment"]["credentials"]["webhook_secrets"];
        *secrets = json!([next, secrets[0]]);
    });
    let early = shop.sell_and_deliver();
    keep_back(&shop, &early);
    shop.pay(&early);
    let (body, signature) = kept_back(&shop, "payment_link.paid", &early);
    let change = json!({"razorpay": {"key_id": shop.key_id, "webhook_secret": next}});
    shop.control("accounts", &change);
    // What the gateway signs from now on counts, and so does what it signed before.
    let late = shop.sell_and_deliver();
    shop.pay(&late);
    shop.until_confirmed(&late);
    let reply = shop.hook("razorpay", &[(SIGNATURE, &signature)], &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    shop.until_confirmed(&early);
    // A secret that is in the document no more, or not yet.
    let retired = sign("retired", &body);
    let reply = shop.hook("razorpay", &[(SIGNATURE, &retired)], &body);
    assert_eq!(reply.status, 401);
    assert_eq!(shop.inbox(&shop.phone).len(), 4);
}
