//! Orders in DynamoDB. One order is one item, every operation is one request, and every rule about who may write stands in the
//! request's own condition, so that no two writers can pass each other.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure as OnFailure,
};
use aws_types::SdkConfig;
use chatbill_domain::event::{Once, Recorded};
use chatbill_domain::ids::{OrderKey, ReferenceId};
use chatbill_domain::order::{Draft, Order};
use chatbill_domain::ports::{
    Append, Appended, Created, Due, OrderStore, StoreError, day_partition, due_shard,
};
use chatbill_domain::time::Millis;

use crate::contacts::OptOuts;
use crate::failure::reason;
use crate::item::{self, Item, Record, integer, text};

/// How long parked events wait for their order, seconds.
const PARKED: i64 = 30 * 24 * 3600;

const DUE_INDEX: &str = "due";

/// Orders in one table.
#[derive(Debug, Clone)]
pub struct DynamoOrders {
    client: Client,
    table: String,
    opt_outs: OptOuts,
}

impl DynamoOrders {
    /// The orders in `table`.
    #[must_use]
    pub fn new(config: &SdkConfig, table: impl Into<String>) -> Self {
        Self::with_client(Client::new(config), table)
    }

    /// The same with a client of one's own.
    #[must_use]
    pub fn with_client(client: Client, table: impl Into<String>) -> Self {
        Self {
            client,
            table: table.into(),
            opt_outs: OptOuts::default(),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn opt_outs(&self) -> &OptOuts {
        &self.opt_outs
    }

    /// Reads one item, strongly consistent.
    pub(crate) async fn fetch(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(answer.item)
    }

    async fn get(&self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        match self.fetch(item::primary_key(key)).await? {
            Some(item) => self.record(key, item).await.map(Some),
            None => Ok(None),
        }
    }

    /// What an item is, with what no longer fitted into it.
    pub(crate) async fn record(&self, key: &OrderKey, item: Item) -> Result<Record, StoreError> {
        item::read(key, &self.whole(key, item).await?)
    }

    async fn whole(&self, key: &OrderKey, item: Item) -> Result<Item, StoreError> {
        if !item::has_more(&item) {
            return Ok(item);
        }
        let more = self.fetch(item::more_key(key)).await?;
        Ok(item::join(item, more))
    }

    /// The order's item has no room for facts about money: it is closed, and they go beside it.
    async fn open_more(&self, key: &OrderKey, append: &Append) -> Result<Appended, StoreError> {
        tracing::error!(
            event = "order_full",
            order.tenant_id = %key.tenant, order.reference_id = %key.reference,
            "the order's item is full; what it is told of money is kept beside it"
        );
        let update = Update::new(true)
            .only_if("attribute_exists(bill)")
            .set("more = :yes")
            .value(":yes", AttributeValue::Bool(true));
        match self.update(key, update).await? {
            Written::Yes(head) => self.append_more(key, append, head).await,
            Written::Refused(_) => Ok(Appended::Missing),
        }
    }

    /// Adds to what lies beside a full item. Nothing is added to that any more, so the knowledge of it is not old.
    async fn append_more(
        &self,
        key: &OrderKey,
        append: &Append,
        mut head: Item,
    ) -> Result<Appended, StoreError> {
        if append.once.as_ref().is_some_and(|o| item::knows(&head, o)) {
            let order = order(key, &self.whole(key, head).await?)?;
            return Ok(Appended::Duplicate(order));
        }
        // Due too early costs a look; due too late, because somebody died in between, leaves a customer waiting.
        if let Due::At(_) = append.due
            && let Some(item) = self.set_due(key, append.due).await?
        {
            head = item;
        }
        let before = item::count(&head);
        let mut update = Update::new(append.once.is_some() || append.expect.is_some())
            .only_if("attribute_not_exists(bill)")
            .set("events = list_append(if_not_exists(events, :none), :events)")
            .value(":events", item::events(key, &append.events)?)
            .value(":none", AttributeValue::L(Vec::new()));
        if let Some(once) = &append.once {
            update = update.once(once);
        }
        let stale = |head: Item| async {
            let order = order(key, &self.whole(key, head).await?)?;
            Ok(Appended::Stale(order))
        };
        match append.expect.map(|expect| expect.checked_sub(before)) {
            None => {}
            Some(None) => return stale(head).await,
            Some(Some(0)) => update = update.only_if("attribute_not_exists(events)"),
            Some(Some(further)) => update = update.expect(further),
        }
        match append.at_most.map(|most| most.checked_sub(before)) {
            None => {}
            Some(None | Some(0)) => return stale(head).await,
            Some(Some(further)) => {
                update = update
                    .only_if("(attribute_not_exists(events) OR size(events) < :most)")
                    .value(":most", integer(further));
            }
        }
        match self.write(item::more_key(key), update).await? {
            Written::Yes(more) => {
                if append.due == Due::Never
                    && let Some(item) = self.set_due(key, append.due).await?
                {
                    head = item;
                }
                Ok(Appended::Done(order(key, &item::join(head, Some(more)))?))
            }
            Written::Refused(more) => {
                let known = match (&more, &append.once) {
                    (Some(more), Some(once)) => item::knows(more, once),
                    _ => false,
                };
                let order = order(key, &item::join(head, more))?;
                Ok(if known {
                    Appended::Duplicate(order)
                } else {
                    Appended::Stale(order)
                })
            }
        }
    }

    /// When a full order is due. An item so full that not even that fits keeps the time it has.
    async fn set_due(&self, key: &OrderKey, due: Due) -> Result<Option<Item>, StoreError> {
        let update = Update::new(true)
            .only_if("attribute_exists(bill)")
            .remove("checks")
            .due(key, due);
        match self.update(key, update).await {
            Ok(Written::Yes(item)) => Ok(Some(item)),
            Ok(Written::Refused(_)) | Err(StoreError::Full(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn update(&self, key: &OrderKey, update: Update) -> Result<Written, StoreError> {
        self.write(item::primary_key(key), update).await
    }

    pub(crate) async fn write(&self, key: Item, update: Update) -> Result<Written, StoreError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .update_expression(update.expression())
            .condition_expression(update.only_if.join(" AND "))
            .set_expression_attribute_names(update.names())
            // An empty map of values is refused as well.
            .set_expression_attribute_values((!update.values.is_empty()).then_some(update.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let result = if update.repeatable {
            request.send().await
        } else {
            let once = aws_sdk_dynamodb::config::Builder::new();
            let once = once.retry_config(RetryConfig::disabled());
            request.customize().config_override(once).send().await
        };
        match result {
            Ok(answer) => Ok(Written::Yes(answer.attributes.unwrap_or_default())),
            Err(SdkError::ServiceError(context)) if conditional(context.err()) => {
                match context.into_err() {
                    UpdateItemError::ConditionalCheckFailedException(failed) => {
                        Ok(Written::Refused(failed.item))
                    }
                    _ => Ok(Written::Refused(None)),
                }
            }
            Err(SdkError::ServiceError(context)) if too_large(context.err()) => Err(
                StoreError::Full("the item has reached DynamoDB's 400 KB".to_owned()),
            ),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

fn conditional(error: &UpdateItemError) -> bool {
    error.is_conditional_check_failed_exception()
}

/// DynamoDB, "UpdateItem": a ValidationException whose words are "Item size to update has exceeded the maximum allowed size", or "Item
/// size has exceeded the maximum allowed size" for an item that is new. There is no code of its own for it.
fn too_large(error: &UpdateItemError) -> bool {
    use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
    error.code() == Some("ValidationException")
        && error.message().is_some_and(|message| {
            message.contains("Item size") && message.contains("exceeded the maximum allowed size")
        })
}

pub(crate) fn unavailable<E: aws_sdk_dynamodb::error::ProvideErrorMetadata, R>(
    error: &SdkError<E, R>,
) -> StoreError {
    StoreError::Unavailable(reason(error))
}

/// What became of a conditional write.
pub(crate) enum Written {
    /// Done; the item as it is now.
    Yes(Item),
    /// The condition did not hold; the item as it is, if there is one.
    Refused(Option<Item>),
}

/// One `UpdateItem` in the making. DynamoDB refuses names and values that no expression uses, so each part brings its own.
pub(crate) struct Update {
    set: Vec<&'static str>,
    remove: Vec<&'static str>,
    add: Vec<&'static str>,
    only_if: Vec<&'static str>,
    values: HashMap<String, AttributeValue>,
    repeatable: bool,
}

impl Update {
    /// `repeatable`: the SDK may send it again when an answer is lost, because the condition fails if it was done already or
    /// doing it twice changes nothing.
    pub(crate) fn new(repeatable: bool) -> Self {
        Self {
            set: Vec::new(),
            remove: Vec::new(),
            add: Vec::new(),
            only_if: Vec::new(),
            values: HashMap::new(),
            repeatable,
        }
    }

    pub(crate) fn set(mut self, expression: &'static str) -> Self {
        self.set.push(expression);
        self
    }

    fn remove(mut self, name: &'static str) -> Self {
        self.remove.push(name);
        self
    }

    pub(crate) fn only_if(mut self, expression: &'static str) -> Self {
        self.only_if.push(expression);
        self
    }

    pub(crate) fn value(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// Writes the fact's key down, and refuses the write if it is there already.
    fn once(mut self, once: &Once) -> Self {
        self.add.push("#keys :keys");
        self.only_if("(attribute_not_exists(#keys) OR NOT contains(#keys, :once))")
            .value(":once", text(once.as_str()))
            .value(":keys", AttributeValue::Ss(vec![once.as_str().to_owned()]))
    }

    fn expect(self, events: usize) -> Self {
        self.only_if("size(events) = :expect")
            .value(":expect", integer(events))
    }

    fn at_most(self, events: usize) -> Self {
        self.only_if("size(events) < :most")
            .value(":most", integer(events))
    }

    fn due(self, key: &OrderKey, due: Due) -> Self {
        match due {
            Due::Keep => self,
            Due::At(at) => self
                .set("due_shard = :shard")
                .set("due_at = :due")
                .value(":shard", text(due_shard(key).to_string()))
                .value(":due", integer(at.get())),
            Due::Never => self.remove("due_shard").remove("due_at"),
        }
    }

    fn expression(&self) -> String {
        [
            ("SET", &self.set),
            ("REMOVE", &self.remove),
            ("ADD", &self.add),
        ]
        .iter()
        .filter(|(_, parts)| !parts.is_empty())
        .map(|(verb, parts)| format!("{verb} {}", parts.join(", ")))
        .collect::<Vec<_>>()
        .join(" ")
    }

    /// Placeholders for the names that are words of DynamoDB's own language.
    fn names(&self) -> Option<HashMap<String, String>> {
        let used = |placeholder: &str| {
            [&self.set, &self.remove, &self.add, &self.only_if]
                .iter()
                .any(|parts| parts.iter().any(|part| part.contains(placeholder)))
        };
        let names: HashMap<String, String> = [
            ("#keys", "keys"),
            ("#ttl", "ttl"),
            ("#until", "until"),
            ("#at", "at"),
            ("#order", "order"),
        ]
        .iter()
        .filter(|(placeholder, _)| used(placeholder))
        .map(|(placeholder, name)| ((*placeholder).to_owned(), (*name).to_owned()))
        .collect();
        (!names.is_empty()).then_some(names)
    }
}

impl OrderStore for DynamoOrders {
    async fn create(&self, draft: &Draft) -> Result<Created, StoreError> {
        let key = &draft.key;
        // Parked events are in the list already; the bill's own event still comes first.
        let update = Update::new(true)
            .only_if("attribute_not_exists(bill)")
            .only_if("attribute_not_exists(alias_of)")
            .set("bill = :bill")
            .set("events = list_append(:created, if_not_exists(events, :none))")
            .set("more = :no")
            .remove("#ttl")
            .value(":no", AttributeValue::Bool(false))
            .value(":bill", item::json(key, &draft.contents)?)
            .value(
                ":created",
                item::events(key, std::slice::from_ref(&draft.created))?,
            )
            .value(":none", AttributeValue::L(Vec::new()))
            .set("day_shard = :day")
            .value(":day", text(day_partition(key, draft.contents.created_at)))
            .due(key, Due::At(draft.due));
        match self.update(key, update).await? {
            Written::Yes(item) => Ok(Created::New(order(key, &item)?)),
            Written::Refused(None) => Err(vanished(key)),
            Written::Refused(Some(item)) => match self.record(key, item).await? {
                Record::Order(order) => Ok(Created::Existing(*order)),
                Record::Alias(_) => Ok(Created::Taken),
                Record::Parked => Err(vanished(key)),
            },
        }
    }

    async fn load(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        Ok(match self.get(key).await? {
            Some(Record::Order(order)) => Some(*order),
            Some(Record::Alias(_) | Record::Parked) | None => None,
        })
    }

    async fn resolve(&self, key: &OrderKey) -> Result<Option<ReferenceId>, StoreError> {
        Ok(match self.get(key).await? {
            Some(Record::Alias(reference)) => Some(reference),
            Some(Record::Order(_) | Record::Parked) | None => None,
        })
    }

    async fn append(&self, key: &OrderKey, append: &Append) -> Result<Appended, StoreError> {
        // Without a guard, a repetition after a lost answer would add the events twice.
        let guarded = append.once.is_some() || append.expect.is_some();
        let mut update = Update::new(guarded)
            .only_if("attribute_exists(bill)")
            .only_if("(attribute_not_exists(more) OR more = :no)")
            .value(":no", AttributeValue::Bool(false))
            .set("events = list_append(events, :events)")
            .remove("checks")
            .value(":events", item::events(key, &append.events)?)
            .due(key, append.due);
        if let Some(once) = &append.once {
            update = update.once(once);
        }
        if let Some(expect) = append.expect {
            update = update.expect(expect);
        }
        if let Some(most) = append.at_most {
            update = update.at_most(most);
        }
        let money = append.events.iter().any(|r| r.event.is_about_money());
        let written = match self.update(key, update).await {
            Err(StoreError::Full(_)) if money => return self.open_more(key, append).await,
            written => written?,
        };
        match written {
            Written::Yes(item) => Ok(Appended::Done(order(key, &item)?)),
            Written::Refused(None) => Ok(Appended::Missing),
            Written::Refused(Some(item)) if item::has_more(&item) => {
                self.append_more(key, append, item).await
            }
            Written::Refused(Some(item)) => Ok(match item::read(key, &item)? {
                Record::Order(order) => {
                    let known = append.once.as_ref().is_some_and(|o| item::knows(&item, o));
                    if known {
                        Appended::Duplicate(*order)
                    } else {
                        Appended::Stale(*order)
                    }
                }
                Record::Alias(reference) => Appended::Alias(reference),
                Record::Parked => Appended::Missing,
            }),
        }
    }

    async fn park(
        &self,
        key: &OrderKey,
        once: &Once,
        events: &[Recorded],
        now: Millis,
    ) -> Result<Appended, StoreError> {
        let update = Update::new(true)
            .only_if("attribute_not_exists(bill)")
            .only_if("attribute_not_exists(alias_of)")
            .set("events = list_append(if_not_exists(events, :none), :events)")
            .set("#ttl = :ttl")
            .value(":events", item::events(key, events)?)
            .value(":none", AttributeValue::L(Vec::new()))
            .value(":ttl", integer(now.plus_seconds(PARKED).seconds()))
            .once(once);
        let item = match self.update(key, update).await? {
            Written::Yes(_) => return Ok(Appended::Missing),
            Written::Refused(item) => item.ok_or_else(|| vanished(key))?,
        };
        match item::read(key, &item)? {
            Record::Parked => Ok(Appended::Missing),
            Record::Alias(reference) => Ok(Appended::Alias(reference)),
            Record::Order(order) => {
                let append = Append {
                    once: Some(once.clone()),
                    due: due_after(&order, events, now),
                    events: events.to_vec(),
                    expect: None,
                    at_most: None,
                };
                self.append(key, &append).await
            }
        }
    }

    async fn alias(&self, alias: &ReferenceId, key: &OrderKey) -> Result<bool, StoreError> {
        let name = OrderKey::new(key.tenant.clone(), alias.clone());
        // Hints that wait under this name were about nothing of ours: a name of ours leads to an order that is asked about anyway.
        let update = Update::new(true)
            .only_if("attribute_not_exists(bill)")
            .only_if("(attribute_not_exists(alias_of) OR alias_of = :of)")
            .set("alias_of = :of")
            .remove("events")
            .remove("#keys")
            .remove("#ttl")
            .value(":of", text(key.reference.as_str()));
        Ok(matches!(self.update(&name, update).await?, Written::Yes(_)))
    }

    async fn due(&self, shard: u8, now: Millis, limit: u32) -> Result<Vec<OrderKey>, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(DUE_INDEX)
            .key_condition_expression("due_shard = :shard AND due_at <= :now")
            .expression_attribute_values(":shard", text(shard.to_string()))
            .expression_attribute_values(":now", integer(now.get()))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(answer.items().iter().filter_map(item::order_key).collect())
    }

    async fn reschedule(
        &self,
        key: &OrderKey,
        expect: Option<usize>,
        due: Due,
        checks: u32,
    ) -> Result<bool, StoreError> {
        let update = |expect: Option<usize>, checks: u32| {
            let update = Update::new(true).only_if("attribute_exists(bill)");
            let update = match expect {
                Some(events) => update
                    .expect(events)
                    .only_if("(attribute_not_exists(more) OR more = :no)")
                    .value(":no", AttributeValue::Bool(false)),
                None => update,
            };
            let update = update.due(key, due);
            if checks == 0 {
                update.remove("checks")
            } else {
                update
                    .set("checks = :checks")
                    .value(":checks", integer(checks))
            }
        };
        let written = match self.update(key, update(expect, checks)).await {
            // The number of looks finds no room where an earlier time of the same length does.
            Err(StoreError::Full(_)) => self.update(key, update(expect, 0)).await?,
            written => written?,
        };
        match written {
            Written::Yes(_) => Ok(true),
            Written::Refused(Some(head)) if item::has_more(&head) => {
                let before = item::count(&self.whole(key, head).await?);
                if expect.is_some_and(|expect| expect != before) {
                    return Ok(false);
                }
                Ok(self.set_due(key, due).await?.is_some())
            }
            Written::Refused(_) => Ok(false),
        }
    }
}

/// The due time of an order that parked events turn out to belong to. Nobody has looked at it with these events, so the earlier
/// of what was planned and what they call for: a look too early costs one read, one too late leaves a customer waiting.
fn due_after(order: &Order, events: &[Recorded], now: Millis) -> Due {
    let mut all = order.events.clone();
    all.extend_from_slice(events);
    let after = Order::new(order.key.clone(), order.contents.clone(), all, None, 0);
    match [order.due, after.next_check(now)]
        .into_iter()
        .flatten()
        .min()
    {
        Some(at) => Due::At(at),
        None => Due::Keep,
    }
}

fn order(key: &OrderKey, item: &Item) -> Result<Order, StoreError> {
    match item::read(key, item)? {
        Record::Order(order) => Ok(*order),
        Record::Alias(_) | Record::Parked => Err(vanished(key)),
    }
}

/// A condition failed, or a write succeeded, and the item that came back is not one it can have met.
fn vanished(key: &OrderKey) -> StoreError {
    StoreError::Corrupt(format!("{key}: not the item that was written"))
}
