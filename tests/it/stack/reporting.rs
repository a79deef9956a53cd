//! The books of a day on the deployed stack.

use chatbill_domain::ports::Clock as _;
use chatbill_domain::time::Day;
use chatbill_runtime::system::SystemClock;
use serde_json::json;

use super::shop::Shop;

/// Today in India; a run over midnight there asks again.
pub(crate) fn today() -> String {
    Day::of(SystemClock.now()).to_string()
}

#[test]
fn a_day_s_books_balance_and_hold_what_was_paid_and_given_back() {
    let shop = Shop::open();
    let paid = shop.sell_and_deliver();
    shop.pay(&paid);
    shop.until_confirmed(&paid);
    let back = json!({"refund_id": "torn", "amount": {"value": 10_000, "offset": 100}});
    shop.call("POST", &format!("/invoices/{paid}/refunds"), Some(&back))
        .json(201);
    shop.until(&paid, "the money to go back", |order| {
        order["payment_status"] == "partially_refunded"
    });
    let (open, _) = shop.sell();
    let report = shop
        .call("GET", &format!("/reports/day/{}", today()), None)
        .json(200);
    let ledger = &report["ledger"];
    assert_eq!(ledger["balanced"], true, "{report}");
    let total = &ledger["total"];
    assert_eq!(total["billed"]["count"], 2, "{report}");
    assert_eq!(total["captured"]["amount"]["value"], 85_000);
    assert_eq!(total["refunded"]["amount"]["value"], 10_000);
    assert_eq!(total["kept"]["value"], 75_000);
    assert_eq!(total["open"]["count"], 1);
    let csv = shop.call("GET", &format!("/reports/day/{}?format=csv", today()), None);
    let text = String::from_utf8(csv.bytes.clone()).unwrap();
    assert_eq!(csv.status, 200);
    assert!(text.contains(&paid) && text.contains(&open), "{text}");
    assert!(!text.contains(&shop.phone), "no phone numbers in the books");
    let other = Shop::open();
    let empty = other
        .call("GET", &format!("/reports/day/{}", today()), None)
        .json(200);
    assert_eq!(empty["ledger"]["total"]["billed"]["count"], 0);
}
