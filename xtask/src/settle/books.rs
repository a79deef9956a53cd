//! Our own books: answers of `GET /reports/day/{date}`, as movements of money at one gateway.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::amount::Amount;
use super::matching::{Kind, Ours, State};

/// What some days' books say about one gateway.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) entries: Vec<Ours>,
    /// What does not balance in them.
    pub(crate) problems: Vec<String>,
    /// Bills of the gateway.
    pub(crate) bills: usize,
    /// The numbers of all bills, paid or not, at any gateway.
    pub(crate) references: BTreeSet<String>,
}

/// Where a part begins, and where the next one does.
type Link = (Option<String>, Option<String>);

/// Reads all parts of some days. A part that is missing would look like money that is missing, so it is refused.
pub(crate) fn read(parts: &[(String, String)], gateway: &str) -> Result<Books, String> {
    let mut books = Books::default();
    let mut bills: BTreeMap<String, Value> = BTreeMap::new();
    let mut chains: BTreeMap<String, Vec<Link>> = BTreeMap::new();
    for (name, text) in parts {
        let part: Value = serde_json::from_str(text).map_err(|why| format!("{name}: {why}"))?;
        let date = field(&part, "date").as_str();
        let (Some(date), Some(orders)) = (date, field(&part, "orders").as_array()) else {
            return Err(format!("{name} is no answer of GET /reports/day/{{date}}"));
        };
        let link = |name: &str| text_of(&part, name);
        let links = chains.entry(date.to_owned()).or_default();
        links.push((link("after"), link("next")));
        if let Some(problems) = field(field(&part, "ledger"), "problems").as_array() {
            let problems = problems.iter().filter_map(Value::as_str);
            books
                .problems
                .extend(problems.map(|p| format!("{date}: {p}")));
        }
        for order in orders {
            let reference = text_of(order, "reference_id")
                .ok_or_else(|| format!("{name}: a bill without a number"))?;
            if let Some(known) = bills.insert(reference.clone(), order.clone())
                && known != *order
            {
                return Err(format!(
                    "{name}: {reference} is in these books twice, and not the same"
                ));
            }
        }
    }
    for (date, links) in &chains {
        complete(links).map_err(|why| format!("the books of {date} are not complete: {why}"))?;
    }
    for (reference, order) in &bills {
        if field(order, "gateway") == gateway {
            books.bills = books.bills.saturating_add(1);
            books.entries.append(
                &mut entries(reference, order).map_err(|why| format!("{reference}: {why}"))?,
            );
        }
    }
    books.references = bills.into_keys().collect();
    Ok(books)
}

/// From the beginning of the day, part by part, to its end.
fn complete(links: &[Link]) -> Result<(), String> {
    let known: BTreeMap<&Option<String>, &Option<String>> =
        links.iter().map(|(after, next)| (after, next)).collect();
    let mut visited = BTreeSet::new();
    let mut at = &None;
    loop {
        let next = known.get(at).ok_or_else(|| {
            at.as_ref().map_or_else(
                || "the first part".to_owned(),
                |after| format!("?after={after}"),
            ) + " is missing"
        })?;
        if next.is_none() {
            return Ok(());
        }
        if !visited.insert(*next) {
            return Err("its parts go round in a circle".to_owned());
        }
        at = next;
    }
}

fn entries(reference: &str, order: &Value) -> Result<Vec<Ours>, String> {
    let mut found = Vec::new();
    // The gateway's statement shows what the customer paid: a fee the customer bore is in it, an offer is not. Books of earlier
    // releases know neither.
    let received = match field(order, "received") {
        Value::Null => money(field(order, "captured"))?,
        received => money(received)?,
    };
    if received != Amount::default() {
        found.push(Ours {
            kind: Kind::Payment,
            state: State::Done,
            reference: reference.to_owned(),
            id: text_of(order, "payment_id"),
            payment: None,
            amount: received,
        });
    }
    for other in field(order, "other_payments")
        .as_array()
        .into_iter()
        .flatten()
    {
        if field(other, "currency") == "INR" {
            found.push(Ours {
                kind: Kind::Payment,
                state: State::Done,
                reference: reference.to_owned(),
                id: text_of(other, "payment_id"),
                payment: None,
                amount: money(field(other, "amount"))?,
            });
        }
    }
    for refund in field(order, "refunds").as_array().into_iter().flatten() {
        found.push(Ours {
            kind: Kind::Refund,
            state: match field(refund, "status").as_str() {
                Some("processed") => State::Done,
                Some("failed") => State::Failed,
                Some("queued" | "pending" | "unknown") => State::OnItsWay,
                other => {
                    return Err(format!(
                        "a refund is {}",
                        other.unwrap_or("without a status")
                    ));
                }
            },
            reference: reference.to_owned(),
            id: text_of(refund, "gateway_refund_id"),
            payment: text_of(refund, "payment_id"),
            amount: money(field(refund, "amount"))?,
        });
    }
    Ok(found)
}

/// A field, or nothing.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text_of(value: &Value, name: &str) -> Option<String> {
    field(value, name).as_str().map(str::to_owned)
}

/// `{"value": 50000, "offset": 100}`, in paise.
fn money(value: &Value) -> Result<Amount, String> {
    let number = |name: &str| field(value, name).as_i64();
    match (number("value"), number("offset")) {
        (Some(paise), Some(100)) => Ok(Amount(paise)),
        _ => Err(format!("{value} is not money")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paise(value: i64) -> Value {
        json!({"value": value, "offset": 100})
    }

    #[test]
    fn a_payment_is_what_the_customer_paid_with_fee_and_offer() {
        for (received, expected) in [
            (Some(86_003), 86_003),
            (Some(80_000), 80_000),
            (None, 85_000),
        ] {
            let mut bill = bill("A-1", "razorpay", 85_000);
            if let Some(received) = received {
                bill["received"] = paise(received);
            }
            let entries = entries("A-1", &bill).unwrap();
            assert_eq!(
                entries.iter().map(|e| e.amount).collect::<Vec<_>>(),
                [Amount(expected)]
            );
        }
    }

    fn bill(reference: &str, gateway: &str, captured: i64) -> Value {
        json!({
            "reference_id": reference, "gateway": gateway, "captured": paise(captured),
            "payment_id": (captured > 0).then(|| format!("pay_{reference}")), "refunds": [], "other_payments": [],
        })
    }

    fn part(after: Option<&str>, next: Option<&str>, orders: &[Value]) -> (String, String) {
        let part = json!({"date": "2026-11-22", "after": after, "next": next, "orders": orders,
            "ledger": {"balanced": true, "problems": []}});
        ("day.json".to_owned(), part.to_string())
    }

    #[test]
    fn what_moved_at_this_gateway_is_taken() {
        let mut first = bill("A-1", "razorpay", 100);
        first["other_payments"] = json!([
            {"payment_id": "pay_x", "amount": paise(100), "currency": "INR"},
            {"payment_id": "pay_y", "amount": paise(100), "currency": "USD"},
        ]);
        first["refunds"] = json!([
            {"gateway_refund_id": "rfnd_1", "payment_id": "pay_A-1", "amount": paise(10), "status": "processed"},
            {"gateway_refund_id": null, "payment_id": "pay_A-1", "amount": paise(5), "status": "queued"},
            {"gateway_refund_id": "rfnd_2", "payment_id": "pay_A-1", "amount": paise(7), "status": "failed"},
        ]);
        let orders = [first, bill("A-2", "payu", 200), bill("A-3", "razorpay", 0)];
        let books = read(&[part(None, None, &orders)], "razorpay").unwrap();
        let states: Vec<(Kind, State, i64)> = books
            .entries
            .iter()
            .map(|e| (e.kind, e.state, e.amount.0))
            .collect();
        assert_eq!(
            states,
            [
                (Kind::Payment, State::Done, 100),
                (Kind::Payment, State::Done, 100),
                (Kind::Refund, State::Done, 10),
                (Kind::Refund, State::OnItsWay, 5),
                (Kind::Refund, State::Failed, 7),
            ]
        );
        assert_eq!(books.bills, 2);
    }

    #[test]
    fn a_part_that_is_missing_is_noticed_and_one_that_comes_twice_is_not_counted_twice() {
        let first = part(None, Some("1.A-1"), &[bill("A-1", "razorpay", 100)]);
        let second = part(
            Some("1.A-1"),
            Some("2.A-2"),
            &[bill("A-2", "razorpay", 100)],
        );
        let third = part(Some("2.A-2"), None, &[bill("A-3", "razorpay", 100)]);
        let all = [third.clone(), first.clone(), second.clone(), first.clone()];
        assert_eq!(read(&all, "razorpay").unwrap().entries.len(), 3);
        for parts in [
            vec![first.clone()],
            vec![second.clone(), third.clone()],
            vec![first.clone(), third.clone()],
        ] {
            let refused = read(&parts, "razorpay").unwrap_err();
            assert!(refused.contains("missing"), "{refused}");
        }
        let again = part(Some("1.A-1"), Some("1.A-1"), &[]);
        assert!(
            read(&[first.clone(), again], "razorpay")
                .unwrap_err()
                .contains("circle")
        );
        // The same bill, read before and after something happened to it.
        let other = part(Some("1.A-1"), None, &[bill("A-1", "razorpay", 101)]);
        assert!(
            read(&[first, other], "razorpay")
                .unwrap_err()
                .contains("twice")
        );
    }

    #[test]
    fn what_is_not_our_book_is_refused() {
        for text in ["", "{}", "[]", r#"{"date": "2026-11-22"}"#] {
            assert!(
                read(&[("x.json".to_owned(), text.to_owned())], "razorpay").is_err(),
                "{text}"
            );
        }
        let mut bad = bill("A-1", "razorpay", 1);
        bad["captured"] = json!({"value": 1, "offset": 1});
        assert!(read(&[part(None, None, &[bad])], "razorpay").is_err());
    }
}
