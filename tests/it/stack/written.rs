//! What the functions wrote into their logs while all other tests ran. Tests start in the sequence of their names, and this
//! module's name is the last; it also waits until no other shop is open.

use std::sync::atomic::Ordering;
use std::thread;

use serde_json::Value;

use super::shop::{OPEN, SECRETS, Shop, eventually, stack};

const FUNCTIONS: [&str; 7] = [
    "create-invoice",
    "order",
    "pg-webhook",
    "receipt",
    "reconcile",
    "refund",
    "send-status",
];

#[test]
fn no_secret_no_phone_number_and_no_vpa_is_in_any_log_line() {
    // At least one order of its own, should this test be run alone.
    {
        let shop = Shop::open();
        let reference = shop.sell_and_deliver();
        shop.pay(&reference);
        shop.until_confirmed(&reference);
        shop.hook("razorpay", &[("x-razorpay-signature", "00")], b"{}");
    }
    let alone = eventually(|| (OPEN.load(Ordering::SeqCst) == 0).then_some(()));
    assert!(alone.is_some(), "other tests still run");
    let logs: Vec<(&str, Vec<String>)> = thread::scope(|scope| {
        let reading = FUNCTIONS.map(|function| {
            let group = format!("/chatbill/{}/{function}", stack().stage);
            (function, scope.spawn(move || stack().aws.log(&group)))
        });
        reading
            .into_iter()
            .map(|(function, lines)| (function, lines.join().unwrap()))
            .collect()
    });
    let secrets = SECRETS.lock().unwrap();
    assert!(secrets.len() > 5);
    let mut own = 0;
    for (function, lines) in &logs {
        for line in lines {
            for secret in secrets.iter() {
                assert!(!line.contains(secret.as_str()), "{function} wrote {line}");
            }
            // Virtual payment addresses of the sandbox's customers end like those of a bank.
            for bank in ["@upi", "@okhdfcbank", "@ybl", "@exampleupi"] {
                assert!(!line.contains(bank), "{function} wrote {line}");
            }
            if let Ok(entry) = serde_json::from_str::<Value>(line) {
                own += usize::from(entry.get("fields").is_some());
            }
        }
    }
    assert!(own > 0, "the functions' own lines were read");
}
