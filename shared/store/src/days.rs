//! The books: which bills a shop took on a day, by the index `day`, and many orders in one request.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::order::Order;
use chatbill_domain::ports::{DayIndex, DayPage, MOST_LOADED, StoreError, day_partition_of};
use chatbill_domain::time::Day;

use crate::item::{self, Item, Record, text};
use crate::orders::{DynamoOrders, unavailable};

const DAY_INDEX: &str = "day";

impl DayIndex for DynamoOrders {
    async fn day(
        &self,
        tenant: &TenantId,
        day: Day,
        shard: u8,
        after: Option<&ReferenceId>,
        limit: u32,
    ) -> Result<DayPage, StoreError> {
        let query = self
            .client()
            .query()
            .table_name(self.table())
            .index_name(DAY_INDEX)
            .expression_attribute_values(":day", text(day_partition_of(tenant, day, shard)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let query = match after {
            None => query.key_condition_expression("day_shard = :day"),
            Some(after) => query
                .key_condition_expression("day_shard = :day AND reference_id > :after")
                .expression_attribute_values(":after", text(after.as_str())),
        };
        let answer = query.send().await.map_err(|error| unavailable(&error))?;
        let keys = answer.items().iter().map(|item| {
            item::order_key(item)
                .ok_or_else(|| StoreError::Corrupt(format!("{tenant}: an entry of the day index")))
        });
        Ok(DayPage {
            keys: keys.collect::<Result<_, _>>()?,
            more: answer.last_evaluated_key().is_some(),
        })
    }

    async fn load_all(&self, keys: &[OrderKey]) -> Result<Vec<Order>, StoreError> {
        let mut found: HashMap<OrderKey, Item> = HashMap::new();
        let mut left: Vec<Item> = keys.iter().map(item::primary_key).collect();
        if left.len() > MOST_LOADED {
            return Err(StoreError::Unavailable(format!(
                "{} orders at once",
                left.len()
            )));
        }
        while !left.is_empty() {
            let before = left.len();
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(left))
                .consistent_read(true)
                .build()
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let answer = self
                .client()
                .batch_get_item()
                .request_items(self.table(), wanted)
                .send()
                .await
                .map_err(|error| unavailable(&error))?;
            let items = answer.responses.and_then(|mut r| r.remove(self.table()));
            for item in items.unwrap_or_default() {
                if let Some(key) = item::order_key(&item) {
                    found.insert(key, item);
                }
            }
            left = answer
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(self.table()))
                .map(|left| left.keys)
                .unwrap_or_default();
            // Sixteen megabytes are full, or DynamoDB throttles. Whoever gets nothing at all is to come again later.
            if left.len() >= before {
                return Err(StoreError::Unavailable("no order was read".to_owned()));
            }
        }
        let mut orders = Vec::with_capacity(found.len());
        for key in keys {
            if let Some(item) = found.remove(key)
                && let Record::Order(order) = self.record(key, item).await?
            {
                orders.push(*order);
            }
        }
        Ok(orders)
    }
}
