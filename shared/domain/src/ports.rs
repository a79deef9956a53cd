//! What the use cases need from outside, each small enough to say which permission it takes.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::connector::Wish;
use crate::contact::Msisdn;
use crate::event::{Once, Recorded};
use crate::http::{Answer, HttpCall};
use crate::ids::{OrderKey, ReferenceId, TenantId, UserId};
use crate::message::MessageKey;
use crate::order::{Draft, Order};
use crate::tenant::Tenant;
use crate::time::{Day, Millis};
use crate::token::ShortCode;

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Throttled, unreachable or failing: ask again.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be read; a person must look.
    #[error("stored order is corrupt: {0}")]
    Corrupt(String),
    /// The item has reached the store's limit and takes no more of what is not money; nothing was written.
    #[error("no room for more: {0}")]
    Full(String),
}

/// What creating an order found.
#[derive(Debug)]
pub enum Created {
    /// It is new. Hints that arrived before it are in it already.
    New(Order),
    /// There is an order of this number.
    Existing(Order),
    /// The number is the message reference of another order's re-sent bill.
    Taken,
}

/// When an order is due to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Leave it as it is.
    Keep,
    /// At this moment at the latest.
    At(Millis),
    /// Nothing is outstanding.
    Never,
}

/// Facts to add to an order in one write.
#[derive(Debug, Clone)]
pub struct Append {
    /// Refuses the whole write if this fact is stored already.
    pub once: Option<Once>,
    /// The facts.
    pub events: Vec<Recorded>,
    /// Refuses the write unless the order has exactly this many events (what was read is still so).
    pub expect: Option<usize>,
    /// Refuses the write when the order has this many events or more: what anybody can ask for again and again must not fill the
    /// item, or reports about money would find no room.
    pub at_most: Option<usize>,
    /// The due index.
    pub due: Due,
}

/// What became of an [`Append`].
#[derive(Debug)]
pub enum Appended {
    /// Stored; the order as it is now.
    Done(Order),
    /// This fact was stored before; the order as it is.
    Duplicate(Order),
    /// Somebody else wrote first; the order as it is.
    Stale(Order),
    /// There is no such order.
    Missing,
    /// The reference is one of a re-sent bill; the order is this one.
    Alias(ReferenceId),
}

/// Orders. Every operation is one round trip and touches one item.
pub trait OrderStore: Sync {
    /// Creates the order unless there is one. [DynamoDB: UpdateItem]
    fn create(&self, draft: &Draft) -> impl Future<Output = Result<Created, StoreError>> + Send;

    /// Reads an order, strongly consistent. An alias is followed by the caller. (GetItem)
    fn load(
        &self,
        key: &OrderKey,
    ) -> impl Future<Output = Result<Option<Order>, StoreError>> + Send;

    /// The order a message reference of a re-sent bill belongs to. (GetItem)
    fn resolve(
        &self,
        key: &OrderKey,
    ) -> impl Future<Output = Result<Option<ReferenceId>, StoreError>> + Send;

    /// Adds facts to an order. Where its item has no room left, facts about money are kept beside it and read back with it, and what
    /// comes after them too; anything else is refused as [`StoreError::Full`]. [UpdateItem; 4 when the item is full, then 2 or 3]
    fn append(
        &self,
        key: &OrderKey,
        append: &Append,
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Keeps hints for an order that does not exist yet, 30 days from `now`, and says `Missing`, also when it kept them before; when
    /// the order exists after all, they are added to it. [UpdateItem; one more when the order exists]
    fn park(
        &self,
        key: &OrderKey,
        once: &Once,
        events: &[Recorded],
        now: Millis,
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Reserves `alias` as a message reference of `key`. False when the name is in use by another order; reserving it again
    /// for the same order is true. Hints that wait under the name do not use it, and go. (UpdateItem)
    fn alias(
        &self,
        alias: &ReferenceId,
        key: &OrderKey,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Orders due before `now` in one shard of the index, at most `limit`. [Query on the index]
    fn due(
        &self,
        shard: u8,
        now: Millis,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<OrderKey>, StoreError>> + Send;

    /// Changes when an order is due, and how often it has been checked in vain, unless it was written to since it was
    /// read with `expect` events. False when it was, or when there is no such order. (UpdateItem)
    fn reschedule(
        &self,
        key: &OrderKey,
        expect: Option<usize>,
        due: Due,
        checks: u32,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A customer of a shop, as far as messages go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// The shop.
    pub tenant: TenantId,
    /// The customer's number.
    pub phone: Msisdn,
}

/// A customer of a shop whose number the provider may hide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HiddenContact {
    /// The shop.
    pub tenant: TenantId,
    /// As the provider names them.
    pub user: UserId,
}

/// What customers did to be reached, or not to be. One item per customer and matter, one request each.
pub trait Contacts: Sync {
    /// The customer's window is open until `until`; an earlier end known already is moved, a later one kept. (UpdateItem)
    fn open_window(
        &self,
        contact: &Contact,
        until: Millis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Until when the customer's window is open, if it ever was. (GetItem)
    fn window(
        &self,
        contact: &Contact,
    ) -> impl Future<Output = Result<Option<Millis>, StoreError>> + Send;

    /// The customer asked for this at `at`; an older wish that arrives late changes nothing. (UpdateItem)
    fn wish(
        &self,
        contact: &Contact,
        wish: Wish,
        at: Millis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The provider says that this customer has this number. Gives the wish they made under their id, which nobody could place before.
    /// (UpdateItem)
    fn meet(
        &self,
        hidden: &HiddenContact,
        phone: &Msisdn,
    ) -> impl Future<Output = Result<Option<(Wish, Millis)>, StoreError>> + Send;

    /// The customer's number, if it is known. (GetItem)
    fn whose(
        &self,
        hidden: &HiddenContact,
    ) -> impl Future<Output = Result<Option<Msisdn>, StoreError>> + Send;

    /// The customer asked for this at `at`, kept under their id; an older wish that arrives late changes nothing. Gives their number, if
    /// it is known. (UpdateItem)
    fn hidden_wish(
        &self,
        hidden: &HiddenContact,
        wish: Wish,
        at: Millis,
    ) -> impl Future<Output = Result<Option<Msisdn>, StoreError>> + Send;

    /// The customer does not want to be written to. [Query of the shop's whole list, cached 5 minutes]
    fn opted_out(
        &self,
        contact: &Contact,
        now: Millis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Short names of receipts, for SMS.
pub trait Links: Sync {
    /// Makes `code` lead to this order; doing it again changes nothing. (UpdateItem)
    fn shorten(
        &self,
        code: &ShortCode,
        key: &OrderKey,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The order a code leads to. (GetItem)
    fn follow(
        &self,
        code: &ShortCode,
    ) -> impl Future<Output = Result<Option<OrderKey>, StoreError>> + Send;
}

/// What one holder has at a time, across all environments.
pub trait Leases: Sync {
    /// Takes the lease `name` until `until`, if nobody else has it still. Taking what one has already lengthens it. (UpdateItem)
    fn take(
        &self,
        name: &str,
        holder: &str,
        now: Millis,
        until: Millis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives it back, unless somebody else has taken it since. (UpdateItem)
    fn give_back(
        &self,
        name: &str,
        holder: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The due index is spread over this many partitions.
pub const DUE_SHARDS: u8 = 8;

/// The partition of the due index an order is in: FNV-1a of its key. Stored with the order, so it must never change.
#[must_use]
pub fn due_shard(key: &OrderKey) -> u8 {
    u8::try_from(hash(key).checked_rem(DUE_SHARDS.into()).unwrap_or(0)).unwrap_or(0)
}

fn hash(key: &OrderKey) -> u64 {
    let text = format!("{}#{}", key.tenant, key.reference);
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// One day of one shop is spread over this many partitions of the day index.
pub const DAY_SHARDS: u8 = 4;

/// The partition of the day index an order is in: its shop, the day in India its bill was taken, and a part of its hash. Stored
/// with the order, so it must never change.
#[must_use]
pub fn day_partition(key: &OrderKey, created_at: Millis) -> String {
    let shard = hash(key).checked_rem(DAY_SHARDS.into()).unwrap_or(0);
    day_partition_of(
        &key.tenant,
        Day::of(created_at),
        u8::try_from(shard).unwrap_or(0),
    )
}

/// The name of one partition of the day index.
#[must_use]
pub fn day_partition_of(tenant: &TenantId, day: Day, shard: u8) -> String {
    format!("{tenant}#{day}#{shard}")
}

/// Some of a day's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayPage {
    /// Their keys, in the sequence of their references.
    pub keys: Vec<OrderKey>,
    /// There may be more behind the last of them.
    pub more: bool,
}

/// The books: which bills a shop took on a day. An order is in the index from the moment it is created, once, for good.
pub trait DayIndex: Sync {
    /// Bills of this shop and day in one shard, behind the reference `after`, at most `limit`. The index follows its table after a
    /// moment. [Query on the index]
    fn day(
        &self,
        tenant: &TenantId,
        day: Day,
        shard: u8,
        after: Option<&ReferenceId>,
        limit: u32,
    ) -> impl Future<Output = Result<DayPage, StoreError>> + Send;

    /// Reads these orders, at most [`MOST_LOADED`], strongly consistent, in the sequence of their keys; those that do not exist are
    /// left out. [BatchGetItem; again for what DynamoDB did not get to]
    fn load_all(
        &self,
        keys: &[OrderKey],
    ) -> impl Future<Output = Result<Vec<Order>, StoreError>> + Send;
}

/// DynamoDB, "BatchGetItem": at most 100 items.
pub const MOST_LOADED: usize = 100;

/// Work for `send-status`: ids only. What to say is read from the order when it is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliverTask {
    /// Version of this form, 1.
    pub v: u8,
    /// The merchant.
    pub tenant_id: TenantId,
    /// The order.
    pub reference_id: ReferenceId,
    /// The message.
    pub message: MessageKey,
    /// How many tries had been made when this was queued; makes a re-queued task a new one to the queue.
    pub attempt: u32,
}

impl DeliverTask {
    /// The order.
    #[must_use]
    pub fn key(&self) -> OrderKey {
        OrderKey::new(self.tenant_id.clone(), self.reference_id.clone())
    }

    /// Keeps messages of one line of one order in sequence, and no others waiting: a retry waits by holding its task back, and with it
    /// the rest of its group.
    #[must_use]
    pub fn group(&self) -> String {
        format!(
            "{}:{}:{}",
            self.tenant_id,
            self.reference_id,
            self.message.line()
        )
    }

    /// Makes queueing the same task twice within five minutes harmless.
    #[must_use]
    pub fn deduplication(&self) -> String {
        format!(
            "{}:{}:{}:{}",
            self.tenant_id, self.reference_id, self.message, self.attempt
        )
    }
}

/// The queue could not take the task.
#[derive(Debug, thiserror::Error)]
#[error("queue unavailable: {0}")]
pub struct QueueError(pub String);

/// Where `send-status` gets its work. [SQS: SendMessage]
pub trait Queue: Sync {
    /// Queues a task; true delivery order within one order.
    fn send(&self, task: &DeliverTask) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// Holds a received message back. [SQS: ChangeMessageVisibility]
pub trait Visibility: Sync {
    /// The message behind `receipt` comes again in this many seconds, at most [`crate::delivery::LONGEST`].
    fn postpone(
        &self,
        receipt: &str,
        seconds: u32,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// Where messages go that can never be handled, with the reason, instead of failing until the queue gives up. [SQS: SendMessage]
pub trait DeadLetters: Sync {
    /// Puts `body` away as it was received. `group` is the message's own, so that a redrive keeps the sequence; `id` is the
    /// queue's id of the message and makes burying it twice within five minutes harmless.
    fn bury(
        &self,
        body: &str,
        reason: &str,
        group: &str,
        id: &str,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// A setting could not be read.
#[derive(Debug, thiserror::Error)]
#[error("setting unavailable: {0}")]
pub struct SettingsError(pub String);

/// What this installation is told when it is deployed, but not in an environment variable. [SSM: GetParameter, cached 5 minutes]
pub trait Settings: Sync {
    /// Base URL of receipt links, without a slash at the end.
    fn public_url(&self) -> impl Future<Output = Result<Arc<str>, SettingsError>> + Send;
}

/// Makes calls to vendors. One call, one answer; never follows a redirect, never repeats on its own.
pub trait HttpSend: Sync {
    /// Sends the call.
    fn send(&self, call: &HttpCall) -> impl Future<Output = Answer> + Send;
}

/// The tenant could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// Ask again.
    #[error("tenant documents unavailable: {0}")]
    Unavailable(String),
    /// The document is invalid; a person must mend it.
    #[error("tenant document invalid: {0}")]
    Invalid(String),
}

/// Tenant documents. [SSM: GetParameter, cached 5 minutes]
pub trait Tenants: Sync {
    /// The tenant, if there is one.
    fn find(
        &self,
        id: &TenantId,
    ) -> impl Future<Output = Result<Option<Arc<Tenant>>, TenantError>> + Send;

    /// Those at hand without asking anybody; often not all.
    fn known(&self) -> Vec<TenantId>;

    /// The names of all, as they were a minute ago at most; `anew`, as they are now, unless that was wished for in vain too often.
    fn all(
        &self,
        anew: bool,
    ) -> impl Future<Output = Result<Arc<HashSet<TenantId>>, TenantError>> + Send;
}

/// Time.
pub trait Clock: Sync {
    /// Now.
    fn now(&self) -> Millis;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// Randomness for names and jitter.
pub trait Random: Sync {
    /// Sixteen unpredictable bytes.
    fn bytes(&self) -> [u8; 16];

    /// A number for jitter.
    fn number(&self) -> u32 {
        let [a, b, c, d, ..] = self.bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}
