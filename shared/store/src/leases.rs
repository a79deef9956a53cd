//! What one holder has at a time: an item beside the orders, in the same table.
//!
//! | `reference_id` | `record` | attributes |
//! | --- | --- | --- |
//! | `!lease` | the lease's name | `holder` S, `until` N milliseconds, `ttl` N seconds |
//!
//! `!` begins no reference, so none of these can be taken for an order.

use chatbill_domain::ports::{Leases, StoreError};
use chatbill_domain::time::Millis;

use crate::contacts::key;
use crate::item::{integer, text};
use crate::orders::{DynamoOrders, Update, Written};

/// An item that nobody takes again is thrown away this long after its end, seconds.
const KEPT: i64 = 24 * 3600;

impl Leases for DynamoOrders {
    async fn take(
        &self,
        name: &str,
        holder: &str,
        now: Millis,
        until: Millis,
    ) -> Result<bool, StoreError> {
        let update = Update::new(true)
            .only_if("(attribute_not_exists(#until) OR #until <= :now OR holder = :holder)")
            .set("#until = :until")
            .set("holder = :holder")
            .set("#ttl = :ttl")
            .value(":now", integer(now.get()))
            .value(":until", integer(until.get()))
            .value(":holder", text(holder))
            .value(":ttl", integer(until.plus_seconds(KEPT).seconds()));
        let written = self.write(lease(name), update).await?;
        Ok(matches!(written, Written::Yes(_)))
    }

    async fn give_back(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let update = Update::new(true)
            .only_if("holder = :holder")
            .set("#until = :over")
            .value(":holder", text(holder))
            .value(":over", integer(0));
        self.write(lease(name), update).await.map(drop)
    }
}

fn lease(name: &str) -> crate::item::Item {
    key("!lease".to_owned(), name.to_owned())
}
