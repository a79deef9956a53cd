//! How an order lies in its item, and how it is read back.
//!
//! | attribute | type | what |
//! | --- | --- | --- |
//! | `reference_id` | S | the shop's number of the bill |
//! | `record` | S | `<tenant>#order` |
//! | `bill` | S | [`Contents`] as compact JSON; absent while events are only parked |
//! | `events` | L of S | each [`Recorded`] as compact JSON, in the sequence they count |
//! | `keys` | SS | the [`Once`] of every event that has one |
//! | `due_shard`, `due_at` | S, N | the due index: partition and milliseconds; absent when nothing is outstanding |
//! | `day_shard` | S | the day index: `<tenant>#<day in India>#<shard>`; written once, when the bill is taken |
//! | `checks` | N | looks in vain since the last event; absent is 0 |
//! | `ttl` | N | seconds; only while parked |
//! | `more` | BOOL | the item is full, see below; there from the beginning as false, because changing it takes no room |
//! | `alias_of` | S | the order this message reference belongs to; such an item has nothing else |
//!
//! A full item goes on in another with the record `<tenant>#more`, which has `events` and `keys` only. From then on nothing is added to
//! the first, so the sequence of events is that of both lists, one after the other.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use chatbill_domain::event::{Once, Recorded};
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::order::{Contents, Order};
use chatbill_domain::ports::StoreError;
use chatbill_domain::time::Millis;

pub(crate) type Item = HashMap<String, AttributeValue>;

const KIND: &str = "#order";
const MORE: &str = "#more";

/// What an item can be.
pub(crate) enum Record {
    /// An order.
    Order(Box<Order>),
    /// A message reference of this order.
    Alias(ReferenceId),
    /// Events that wait for their order.
    Parked,
}

/// The item's primary key.
pub(crate) fn primary_key(key: &OrderKey) -> Item {
    HashMap::from([
        ("reference_id".to_owned(), text(key.reference.as_str())),
        (
            "record".to_owned(),
            text(format!("{}{KIND}", key.tenant.as_str())),
        ),
    ])
}

/// The primary key of what no longer fits into the item.
pub(crate) fn more_key(key: &OrderKey) -> Item {
    HashMap::from([
        ("reference_id".to_owned(), text(key.reference.as_str())),
        (
            "record".to_owned(),
            text(format!("{}{MORE}", key.tenant.as_str())),
        ),
    ])
}

/// The item is full and goes on in another.
pub(crate) fn has_more(item: &Item) -> bool {
    item.get("more")
        .and_then(|more| more.as_bool().ok())
        .is_some_and(|more| *more)
}

/// How many events the item has.
pub(crate) fn count(item: &Item) -> usize {
    item.get("events")
        .and_then(|list| list.as_l().ok())
        .map_or(0, Vec::len)
}

/// A full item and what it goes on with, as one.
pub(crate) fn join(mut head: Item, more: Option<Item>) -> Item {
    let mut more = more.unwrap_or_default();
    if let (Some(AttributeValue::L(events)), Some(AttributeValue::L(further))) =
        (head.get_mut("events"), more.remove("events"))
    {
        events.extend(further);
    }
    if let (Some(AttributeValue::Ss(keys)), Some(AttributeValue::Ss(further))) =
        (head.get_mut("keys"), more.remove("keys"))
    {
        keys.extend(further);
    }
    head
}

/// The order a primary key names; `None` for records of another kind.
pub(crate) fn order_key(item: &Item) -> Option<OrderKey> {
    let reference = item.get("reference_id")?.as_s().ok()?;
    let tenant = item.get("record")?.as_s().ok()?.strip_suffix(KIND)?;
    Some(OrderKey::new(
        TenantId::parse(tenant).ok()?,
        ReferenceId::parse(reference).ok()?,
    ))
}

/// Reads an item. Whatever does not fit is named by its attribute, never by its content.
pub(crate) fn read(key: &OrderKey, item: &Item) -> Result<Record, StoreError> {
    if let Some(of) = item.get("alias_of") {
        return of
            .as_s()
            .ok()
            .and_then(|text| ReferenceId::parse(text).ok())
            .map(Record::Alias)
            .ok_or_else(|| corrupt(key, "alias_of"));
    }
    let Some(bill) = item.get("bill") else {
        return Ok(Record::Parked);
    };
    let contents: Contents = bill
        .as_s()
        .ok()
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| corrupt(key, "bill"))?;
    let events = item
        .get("events")
        .and_then(|list| list.as_l().ok())
        .ok_or_else(|| corrupt(key, "events"))?
        .iter()
        .map(|event| {
            event
                .as_s()
                .ok()
                .and_then(|text| serde_json::from_str(text).ok())
        })
        .collect::<Option<Vec<Recorded>>>()
        .ok_or_else(|| corrupt(key, "events"))?;
    let due = number(key, item, "due_at")?.map(Millis::new);
    let checks = u32::try_from(number(key, item, "checks")?.unwrap_or(0))
        .map_err(|_| corrupt(key, "checks"))?;
    Ok(Record::Order(Box::new(Order::new(
        key.clone(),
        contents,
        events,
        due,
        checks,
    ))))
}

/// Whether the item has this fact already.
pub(crate) fn knows(item: &Item, once: &Once) -> bool {
    item.get("keys")
        .and_then(|set| set.as_ss().ok())
        .is_some_and(|keys| keys.iter().any(|k| k == once.as_str()))
}

/// Events as the list they are appended as.
pub(crate) fn events(key: &OrderKey, events: &[Recorded]) -> Result<AttributeValue, StoreError> {
    events
        .iter()
        .map(|event| json(key, event))
        .collect::<Result<Vec<_>, _>>()
        .map(AttributeValue::L)
}

/// A value as compact JSON.
pub(crate) fn json<T: serde::Serialize>(
    key: &OrderKey,
    value: &T,
) -> Result<AttributeValue, StoreError> {
    serde_json::to_string(value)
        .map(AttributeValue::S)
        .map_err(|_| StoreError::Corrupt(format!("{key}: cannot be written as JSON")))
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn integer(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn number(key: &OrderKey, item: &Item, name: &str) -> Result<Option<i64>, StoreError> {
    item.get(name)
        .map(|value| {
            value
                .as_n()
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| corrupt(key, name))
        })
        .transpose()
}

fn corrupt(key: &OrderKey, attribute: &str) -> StoreError {
    StoreError::Corrupt(format!("{key}: {attribute}"))
}
