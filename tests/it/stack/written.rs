//! What the functions wrote into their logs while all other tests ran. Tests start in the sequence of their names, and this
//! module's name is the last; it also waits until no other shop is open.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;

use serde_json::{Value, json};

use super::shop::{OPEN, SECRETS, Shop, eventually, stack};
use super::ways::{self, Way};

/// The shortest secret that is looked for: the national number of a phone.
const SHORTEST: usize = 10;

/// The functions there are, as their log groups are called.
fn functions() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 7, "{names:?}");
    names
}

/// The first secret that stands in the text. There are thousands of each, so each place of the text is looked at once.
fn leaked<'a>(secrets: &HashMap<&[u8], Vec<&'a str>>, text: &str) -> Option<&'a str> {
    let bytes = text.as_bytes();
    bytes.windows(SHORTEST).enumerate().find_map(|(at, start)| {
        let candidates = secrets.get(start)?;
        let rest = &bytes[at..];
        candidates
            .iter()
            .find(|secret| rest.starts_with(secret.as_bytes()))
            .copied()
    })
}

/// What looks like a whole Indian mobile number, whosever it is: ten digits, or twelve with the country code.
fn number(text: &str) -> Option<&str> {
    // A request's id may end in twelve digits by chance.
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.len() != 36)
        .flat_map(|word| word.split('-'))
        .filter(|word| word.bytes().all(|b| b.is_ascii_digit()))
        .find(|word| {
            let national = match word.len() {
                12 => word.strip_prefix("91"),
                10 => Some(*word),
                _ => None,
            };
            national.is_some_and(|n| n.starts_with(['6', '7', '8', '9']))
        })
}

/// What looks like a virtual payment address, or an email address: a name, an @, a bank. A name that is hidden ends in a dot of
/// another kind.
fn address(text: &str) -> Option<&str> {
    let named = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices('@').find_map(|(at, _)| {
        let (name, bank) = (&text[..at], &text[at + 1..]);
        (named(name.chars().next_back()) && named(bank.chars().next())).then_some(bank)
    })
}

#[test]
fn no_secret_no_phone_number_and_no_vpa_is_in_any_log_line() {
    // At least these, should this test be run alone: a bill that is paid and given back, by every way its messages can go, a
    // forged webhook, a key that is none, and a receipt that is read.
    ways::each(&ways::ALL, |way: Way| {
        let outlet = way.open_to_customers(|_| ());
        let reference = outlet.sell_and_deliver();
        outlet.pay(&reference);
        outlet.until_confirmed(&reference);
        outlet.page();
        let token = outlet.link().rsplit_once("/r/").unwrap().1.to_owned();
        SECRETS.lock().unwrap().push(token);
        let back = json!({"reason": format!("call +{}", outlet.phone)});
        let path = format!("/invoices/{reference}/refunds");
        outlet.call("POST", &path, Some(&back)).json(201);
        outlet.hook("razorpay", &[("x-razorpay-signature", "00")], b"{}");
        outlet.hook(way.vendor(), &[], outlet.phone.as_bytes());
    });
    refused_at_the_till();
    let alone = eventually(|| (OPEN.load(Ordering::SeqCst) == 0).then_some(()));
    assert!(alone.is_some(), "other tests still run");
    let functions = functions();
    let logs: Vec<(&String, Vec<String>)> = thread::scope(|scope| {
        let reading: Vec<_> = functions
            .iter()
            .map(|function| {
                let group = format!("/chatbill/{}/{function}", stack().stage);
                (function, scope.spawn(move || stack().aws.log(&group)))
            })
            .collect();
        reading
            .into_iter()
            .map(|(function, lines)| (function, lines.join().unwrap()))
            .collect()
    });
    let known = SECRETS.lock().unwrap();
    let mut secrets: HashMap<&[u8], Vec<&str>> = HashMap::new();
    for secret in known.iter() {
        let start = &secret.as_bytes()[..SHORTEST];
        secrets.entry(start).or_default().push(secret);
    }
    assert!(known.len() > 50, "{}", known.len());
    for (function, lines) in &logs {
        let mut own = 0;
        for line in lines {
            assert_eq!(leaked(&secrets, line), None, "{function} wrote {line}");
            assert_eq!(number(line), None, "{function} wrote {line}");
            assert_eq!(address(line), None, "{function} wrote {line}");
            // A receipt is read by whoever has its path.
            assert!(!line.contains("/r/"), "{function} wrote {line}");
            if let Ok(entry) = serde_json::from_str::<Value>(line) {
                own += usize::from(entry.get("fields").is_some());
            }
        }
        let silent = ["receipt", "reconcile", "report"].contains(&function.as_str());
        assert!(own > 0 || silent, "no line of {function}'s own was read");
    }
}

/// A till with a wrong key, and one whose bill has the customer's number in all wrong places.
fn refused_at_the_till() {
    let shop = Shop::open();
    let mut bill = shop.bill();
    for field in ["reference_id", "goods", "currency", "receipt_no"] {
        bill[field] = json!(format!("{}@okhdfcbank", shop.phone));
    }
    shop.post(&bill).problem(400);
    let path = format!("/invoices/{}", shop.phone);
    shop.call("GET", &path, None).problem(404);
    shop.call("GET", "/invoices/T-1?wait=1&phone=9876543210", None)
        .problem(404);
}

#[test]
fn what_is_looked_for_would_be_found() {
    let mut secrets: HashMap<&[u8], Vec<&str>> = HashMap::new();
    let all = ["0123456789abcdef", "0123456789xy", "9876543210"];
    for secret in all {
        let start = &secret.as_bytes()[..SHORTEST];
        secrets.entry(start).or_default().push(secret);
    }
    for secret in all {
        let line = format!("{{\"to\":\"+91{secret}-\"}}");
        assert_eq!(leaked(&secrets, &line), Some(secret));
        assert_eq!(leaked(&secrets, &line.replace(&secret[2..], "")), None);
    }
    for line in [
        "to +919876543210",
        "(9876543210)",
        "\"phone\":\"919876543210\"",
    ] {
        assert!(number(line).is_some(), "{line}");
    }
    for line in [
        "+91••••••3210",
        "1795322643",
        "1795322643000",
        "a9876543210",
        "c3505277-f011-40fb-93b5-916259203219",
    ] {
        assert_eq!(number(line), None, "{line}");
    }
    assert!(address("from pallavi@ok to").is_some());
    assert_eq!(address("from p••••@ok, a @ b"), None);
}
