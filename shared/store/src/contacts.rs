//! What customers did, and the short names of receipts: small items beside the orders, in the same table.
//!
//! | `reference_id` | `record` | attributes |
//! | --- | --- | --- |
//! | `@<tenant>#<phone>` | `window` | `until` N milliseconds, `ttl` N seconds: the 24-hour window |
//! | `@<tenant>#<user id>` | `user` | `phone` S, `opted_out` BOOL, `at` N milliseconds: whom Meta's id stands for, and what they asked for under it |
//! | `@<tenant>` | `wish#<phone>` | `opted_out` BOOL, `at` N milliseconds: the customer's latest wish |
//! | `~<code>` | `link` | `tenant` S, `order` S: a short receipt link |
//!
//! `@` and `~` begin no reference, so none of these can be taken for an order.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::types::AttributeValue;
use chatbill_domain::connector::Wish;
use chatbill_domain::contact::Msisdn;
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::ports::{Contact, Contacts, HiddenContact, Links, StoreError};
use chatbill_domain::time::Millis;
use chatbill_domain::token::ShortCode;

use crate::item::{Item, integer, text};
use crate::orders::{DynamoOrders, Update, Written, unavailable};

/// A shop's list of customers who do not want to be written to is read again after this long, seconds.
const FRESH: i64 = 300;

/// Lists of phone numbers by shop, with the time they were read.
#[derive(Debug, Clone, Default)]
pub(crate) struct OptOuts(Arc<Mutex<HashMap<TenantId, List>>>);

type List = (Millis, Arc<HashSet<String>>);

impl OptOuts {
    fn fresh(&self, tenant: &TenantId, now: Millis) -> Option<Arc<HashSet<String>>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, list) = lists.get(tenant)?;
        (now.seconds_since(*read) < FRESH).then(|| Arc::clone(list))
    }

    fn keep(&self, tenant: &TenantId, list: &Arc<HashSet<String>>, now: Millis) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|_, (read, _)| now.seconds_since(*read) < FRESH);
        lists.insert(tenant.clone(), (now, Arc::clone(list)));
    }
}

pub(crate) fn key(hash: String, range: String) -> Item {
    HashMap::from([
        ("reference_id".to_owned(), text(hash)),
        ("record".to_owned(), text(range)),
    ])
}

fn window_key(contact: &Contact) -> Item {
    key(
        format!("@{}#{}", contact.tenant, contact.phone.digits()),
        "window".to_owned(),
    )
}

fn user_key(hidden: &HiddenContact) -> Item {
    key(
        format!("@{}#{}", hidden.tenant, hidden.user),
        "user".to_owned(),
    )
}

fn phone_of(item: &Item) -> Option<Msisdn> {
    let phone = item.get("phone")?.as_s().ok()?;
    Msisdn::parse(phone.as_str()).ok()
}

fn number(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// A wish, unless a younger one is there.
fn wished(wish: Wish, at: Millis) -> Update {
    Update::new(true)
        .only_if("(attribute_not_exists(#at) OR #at < :at)")
        .set("#at = :at")
        .set("opted_out = :out")
        .value(":at", integer(at.get()))
        .value(":out", AttributeValue::Bool(wish == Wish::OptOut))
}

impl Contacts for DynamoOrders {
    async fn open_window(&self, contact: &Contact, until: Millis) -> Result<(), StoreError> {
        let update = Update::new(true)
            .only_if("(attribute_not_exists(#until) OR #until < :until)")
            .set("#until = :until")
            .set("#ttl = :ttl")
            .value(":until", integer(until.get()))
            .value(":ttl", integer(until.seconds()));
        self.write(window_key(contact), update).await.map(drop)
    }

    async fn window(&self, contact: &Contact) -> Result<Option<Millis>, StoreError> {
        let item = self.fetch(window_key(contact)).await?;
        Ok(item
            .and_then(|item| number(&item, "until"))
            .map(Millis::new))
    }

    async fn wish(&self, contact: &Contact, wish: Wish, at: Millis) -> Result<(), StoreError> {
        let name = key(
            format!("@{}", contact.tenant),
            format!("wish#{}", contact.phone.digits()),
        );
        self.write(name, wished(wish, at)).await.map(drop)
    }

    async fn meet(
        &self,
        hidden: &HiddenContact,
        phone: &Msisdn,
    ) -> Result<Option<(Wish, Millis)>, StoreError> {
        let update = Update::new(true)
            .only_if("(attribute_not_exists(phone) OR phone <> :phone)")
            .set("phone = :phone")
            .value(":phone", text(phone.e164()));
        let item = match self.write(user_key(hidden), update).await? {
            Written::Yes(item) => Some(item),
            Written::Refused(item) => item,
        };
        Ok(item.and_then(|item| {
            let wish = match item.get("opted_out")?.as_bool().ok()? {
                true => Wish::OptOut,
                false => Wish::OptIn,
            };
            Some((wish, Millis::new(number(&item, "at")?)))
        }))
    }

    async fn whose(&self, hidden: &HiddenContact) -> Result<Option<Msisdn>, StoreError> {
        let item = self.fetch(user_key(hidden)).await?;
        Ok(item.as_ref().and_then(phone_of))
    }

    async fn hidden_wish(
        &self,
        hidden: &HiddenContact,
        wish: Wish,
        at: Millis,
    ) -> Result<Option<Msisdn>, StoreError> {
        let item = match self.write(user_key(hidden), wished(wish, at)).await? {
            Written::Yes(item) => Some(item),
            Written::Refused(item) => item,
        };
        Ok(item.as_ref().and_then(phone_of))
    }

    async fn opted_out(&self, contact: &Contact, now: Millis) -> Result<bool, StoreError> {
        let list = match self.opt_outs().fresh(&contact.tenant, now) {
            Some(list) => list,
            None => {
                let list = Arc::new(self.list(&contact.tenant).await?);
                self.opt_outs().keep(&contact.tenant, &list, now);
                list
            }
        };
        Ok(list.contains(contact.phone.digits()))
    }
}

impl DynamoOrders {
    /// Every number of a shop's customers who opted out. A page holds a megabyte, some ten thousand customers.
    async fn list(&self, tenant: &TenantId) -> Result<HashSet<String>, StoreError> {
        let mut numbers = HashSet::new();
        let mut from = None;
        loop {
            let page = self
                .client()
                .query()
                .table_name(self.table())
                .key_condition_expression("reference_id = :shop AND begins_with(#record, :wish)")
                .filter_expression("opted_out = :yes")
                .projection_expression("#record")
                .expression_attribute_names("#record", "record")
                .expression_attribute_values(":shop", text(format!("@{tenant}")))
                .expression_attribute_values(":wish", text("wish#"))
                .expression_attribute_values(":yes", AttributeValue::Bool(true))
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| unavailable(&error))?;
            for item in page.items() {
                let record = item.get("record").and_then(|r| r.as_s().ok());
                numbers.extend(
                    record
                        .and_then(|r| r.strip_prefix("wish#"))
                        .map(str::to_owned),
                );
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(numbers);
            }
        }
    }
}

impl Links for DynamoOrders {
    async fn shorten(&self, code: &ShortCode, order: &OrderKey) -> Result<(), StoreError> {
        let update = Update::new(true)
            .only_if("attribute_not_exists(bill)")
            .set("tenant = :tenant")
            .set("#order = :order")
            .value(":tenant", text(order.tenant.as_str()))
            .value(":order", text(order.reference.as_str()));
        match self.write(link_key(code), update).await? {
            Written::Yes(_) => Ok(()),
            Written::Refused(_) => Err(StoreError::Corrupt("a short link is an order".to_owned())),
        }
    }

    async fn follow(&self, code: &ShortCode) -> Result<Option<OrderKey>, StoreError> {
        let Some(item) = self.fetch(link_key(code)).await? else {
            return Ok(None);
        };
        let read = |name: &str| item.get(name).and_then(|v| v.as_s().ok());
        let tenant = read("tenant").and_then(|t| TenantId::parse(t.as_str()).ok());
        let reference = read("order").and_then(|r| ReferenceId::parse(r.as_str()).ok());
        match (tenant, reference) {
            (Some(tenant), Some(reference)) => Ok(Some(OrderKey::new(tenant, reference))),
            _ => Err(StoreError::Corrupt("a short link leads nowhere".to_owned())),
        }
    }
}

fn link_key(code: &ShortCode) -> Item {
    key(format!("~{}", code.as_str()), "link".to_owned())
}
