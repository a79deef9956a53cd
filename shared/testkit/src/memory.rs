//! The ports in memory, with the conditional semantics of the services they stand for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chatbill_domain::connector::Wish;
use chatbill_domain::contact::Msisdn;
use chatbill_domain::event::{Once, Recorded};
use chatbill_domain::http::{Answer, HttpCall, HttpReply};
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::order::{Draft, Order};
use chatbill_domain::ports::{
    Append, Appended, Clock, Contact, Contacts, Created, DayIndex, DayPage, DeadLetters,
    DeliverTask, Due, HiddenContact, HttpSend, Leases, Links, MOST_LOADED, OrderStore, Queue,
    QueueError, Random, Settings, SettingsError, StoreError, TenantError, Tenants, Visibility,
    day_partition, day_partition_of, due_shard,
};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::{Day, Millis};
use chatbill_domain::token::ShortCode;

use crate::builders::NOW;
use crate::network::{Break, Network};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- Orders ------------------------------------------------------------------------------------------------------------

/// One item as it would lie in the table. Texts are kept as texts, so that what cannot be read back is noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Item {
    bill: Option<String>,
    events: Vec<String>,
    keys: BTreeSet<String>,
    due: Option<Millis>,
    day: Option<String>,
    checks: u32,
    ttl: Option<i64>,
    alias_of: Option<ReferenceId>,
    /// Full; it goes on beside.
    more: bool,
}

/// What no longer fits into an item.
#[derive(Debug, Clone, Default)]
struct More {
    events: Vec<String>,
    keys: BTreeSet<String>,
}

/// DynamoDB, "Quotas": the largest item, bytes.
const LARGEST_ITEM: usize = 409_600;

impl Item {
    /// With what lies beside it.
    fn whole(mut self, more: Option<&More>) -> Self {
        if let Some(more) = more {
            self.events.extend(more.events.iter().cloned());
            self.keys.extend(more.keys.iter().cloned());
        }
        self
    }

    /// Size by the rules of the DynamoDB developer guide, "DynamoDB item sizes and formats": names and texts in bytes, a number
    /// one byte and one for every two digits, a list three bytes and one for every element.
    fn bytes(&self, key: &OrderKey) -> usize {
        let number = |n: i64| {
            1 + n
                .unsigned_abs()
                .to_string()
                .trim_end_matches('0')
                .len()
                .div_ceil(2)
        };
        let mut bytes = "reference_id".len() + key.reference.as_str().len();
        bytes += "record".len() + key.tenant.as_str().len() + "#order".len();
        if let Some(bill) = &self.bill {
            bytes += "bill".len() + bill.len() + "more".len() + 1;
        }
        if self.bill.is_some() || !self.events.is_empty() {
            let events: usize = self.events.iter().map(|e| e.len() + 1).sum();
            bytes += "events".len() + 3 + events;
        }
        if !self.keys.is_empty() {
            bytes += "keys".len() + self.keys.iter().map(String::len).sum::<usize>();
        }
        if let Some(due) = self.due {
            bytes += "due_shard".len() + 1 + "due_at".len() + number(due.get());
        }
        if let Some(day) = &self.day {
            bytes += "day_shard".len() + day.len();
        }
        if self.checks > 0 {
            bytes += "checks".len() + number(self.checks.into());
        }
        if let Some(ttl) = self.ttl {
            bytes += "ttl".len() + number(ttl);
        }
        if let Some(of) = &self.alias_of {
            bytes += "alias_of".len() + of.as_str().len();
        }
        bytes
    }

    fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        let Some(bill) = &self.bill else {
            return Ok(None);
        };
        let corrupt = |_| StoreError::Corrupt(key.to_string());
        let contents = serde_json::from_str(bill).map_err(corrupt)?;
        let events = self
            .events
            .iter()
            .map(|e| serde_json::from_str(e))
            .collect::<Result<Vec<Recorded>, _>>()
            .map_err(corrupt)?;
        let key = key.clone();
        Ok(Some(Order::new(
            key,
            contents,
            events,
            self.due,
            self.checks,
        )))
    }
}

/// One write, what it was and what DynamoDB would charge for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// `create`, `append`, `park`, `alias` or `reschedule`; `mark_full` or `due_of_full` of a full item.
    pub operation: &'static str,
    /// The order.
    pub key: OrderKey,
    /// Whether its condition held. A refused write is charged, too.
    pub done: bool,
    /// Size of the larger of the item before and after, in bytes.
    pub bytes: usize,
    /// Write request units: one for each begun kilobyte, and one for each entry of an index put or deleted.
    pub units: usize,
}

/// Orders in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryOrders {
    network: Network,
    state: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    items: BTreeMap<OrderKey, Item>,
    more: BTreeMap<OrderKey, More>,
    windows: BTreeMap<Contact, Millis>,
    wishes: BTreeMap<Contact, (Millis, Wish)>,
    hidden: BTreeMap<HiddenContact, Hidden>,
    links: BTreeMap<ShortCode, OrderKey>,
    leases: BTreeMap<String, (String, Millis)>,
    writes: Vec<Write>,
}

impl Table {
    fn whole(&self, key: &OrderKey) -> Option<Item> {
        let item = self.items.get(key)?.clone();
        Some(item.whole(self.more.get(key)))
    }

    fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.whole(key).map_or(Ok(None), |item| item.order(key))
    }
}

impl MemoryOrders {
    /// An empty table on a line of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table at the end of this line.
    #[must_use]
    pub fn on(network: &Network) -> Self {
        Self {
            network: network.clone(),
            ..Self::default()
        }
    }

    /// Every write so far, in sequence.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        lock(&self.state).writes.clone()
    }

    /// All orders, without counting a round trip.
    #[must_use]
    pub fn orders(&self) -> Vec<Order> {
        let state = lock(&self.state);
        let keys = state.items.keys();
        keys.filter_map(|key| state.order(key).unwrap()).collect()
    }

    /// One order, without counting a round trip.
    #[must_use]
    pub fn order(&self, key: &OrderKey) -> Option<Order> {
        lock(&self.state).order(key).unwrap()
    }

    /// Its item is full.
    #[must_use]
    pub fn is_full(&self, key: &OrderKey) -> bool {
        let state = lock(&self.state);
        state.items.get(key).is_some_and(|item| item.more)
    }

    /// How many events are parked under this key.
    #[must_use]
    pub fn parked(&self, key: &OrderKey) -> usize {
        let state = lock(&self.state);
        let item = state.items.get(key).filter(|item| item.bill.is_none());
        item.map_or(0, |item| item.events.len())
    }

    /// Deletes what the table's time to live has ended for.
    pub fn expire(&self, now: Millis) {
        let keep = |item: &mut Item| item.ttl.is_none_or(|ttl| ttl > now.seconds());
        lock(&self.state).items.retain(|_, item| keep(item));
    }

    /// One conditional write: `act` gets the item as it is (empty when there is none) and changes it or not. Gives the answer
    /// of `act` and the item that the answer is about.
    fn write<T>(
        &self,
        operation: &'static str,
        key: &OrderKey,
        act: impl FnOnce(&mut Item) -> (bool, T),
    ) -> Result<(T, Item), StoreError> {
        let trouble = self.network.begin(&format!("store.{operation}"));
        if trouble == Some(Break::Request) {
            return Err(lost());
        }
        let mut state = lock(&self.state);
        let before = state.items.get(key).cloned().unwrap_or_default();
        let mut after = before.clone();
        let (done, answer) = act(&mut after);
        if !done {
            after = before.clone();
        }
        let bytes = before.bytes(key).max(after.bytes(key));
        let due = match (before.due, after.due) {
            (a, b) if a == b => 0,
            (Some(_), Some(_)) => 2,
            _ => 1,
        };
        let day = usize::from(before.day != after.day);
        state.writes.push(Write {
            operation,
            key: key.clone(),
            done,
            bytes,
            units: bytes.div_ceil(1024) + due + day,
        });
        if done {
            state.items.insert(key.clone(), after.clone());
        }
        drop(state);
        match trouble {
            Some(_) => Err(lost()),
            None => Ok((answer, after)),
        }
    }

    fn read(&self, operation: &str, key: &OrderKey) -> Result<Option<Item>, StoreError> {
        match self.network.begin(&format!("store.{operation}")) {
            Some(_) => Err(lost()),
            None => Ok(lock(&self.state).whole(key)),
        }
    }

    /// Adds to what lies beside a full item.
    fn append_more(&self, key: &OrderKey, append: &Append) -> Result<Appended, StoreError> {
        if let Due::At(_) = append.due {
            self.write("due_of_full", key, |item| {
                set_due(item, append.due);
                (true, ())
            })?;
        }
        let (verdict, order) = self.aside("append_more", |table| {
            let whole = table.whole(key).unwrap_or_default();
            let once = append.once.as_ref().map(Once::as_str);
            let verdict = if once.is_some_and(|o| whole.keys.contains(o)) {
                Verdict::Duplicate
            } else if append.expect.is_some_and(|e| whole.events.len() != e)
                || append
                    .at_most
                    .is_some_and(|most| whole.events.len() >= most)
            {
                Verdict::Stale
            } else {
                let more = table.more.entry(key.clone()).or_default();
                more.events.extend(texts(&append.events));
                more.keys.extend(once.map(str::to_owned));
                if append.due == Due::Never
                    && let Some(item) = table.items.get_mut(key)
                {
                    item.due = None;
                }
                Verdict::Done
            };
            (verdict, table.order(key))
        })?;
        Ok(match (verdict, order?) {
            (Verdict::Done, Some(order)) => Appended::Done(order),
            (Verdict::Duplicate, Some(order)) => Appended::Duplicate(order),
            (_, Some(order)) => Appended::Stale(order),
            (_, None) => Appended::Missing,
        })
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the line is broken".to_owned())
}

fn texts(events: &[Recorded]) -> impl Iterator<Item = String> + '_ {
    events.iter().map(|e| serde_json::to_string(e).unwrap())
}

fn set_due(item: &mut Item, due: Due) {
    match due {
        Due::Keep => {}
        Due::At(at) => item.due = Some(at),
        Due::Never => item.due = None,
    }
}

impl MemoryOrders {
    /// One request that is no order's: the change is made unless the request is lost, and an answer comes unless that is.
    fn aside<T>(
        &self,
        operation: &str,
        act: impl FnOnce(&mut Table) -> T,
    ) -> Result<T, StoreError> {
        let trouble = self.network.begin(&format!("store.{operation}"));
        if trouble == Some(Break::Request) {
            return Err(lost());
        }
        let answer = act(&mut lock(&self.state));
        match trouble {
            Some(_) => Err(lost()),
            None => Ok(answer),
        }
    }
}

/// What is known of a customer by their id at the provider.
#[derive(Debug, Clone, Default)]
struct Hidden {
    phone: Option<Msisdn>,
    wish: Option<(Millis, Wish)>,
}

impl Contacts for MemoryOrders {
    async fn open_window(&self, contact: &Contact, until: Millis) -> Result<(), StoreError> {
        self.aside("open_window", |table| {
            let known = table.windows.entry(contact.clone()).or_insert(until);
            *known = (*known).max(until);
        })
    }

    async fn window(&self, contact: &Contact) -> Result<Option<Millis>, StoreError> {
        self.aside("window", |table| table.windows.get(contact).copied())
    }

    async fn wish(&self, contact: &Contact, wish: Wish, at: Millis) -> Result<(), StoreError> {
        self.aside("wish", |table| {
            let known = table.wishes.entry(contact.clone()).or_insert((at, wish));
            if known.0 < at {
                *known = (at, wish);
            }
        })
    }

    async fn meet(
        &self,
        hidden: &HiddenContact,
        phone: &Msisdn,
    ) -> Result<Option<(Wish, Millis)>, StoreError> {
        self.aside("meet", |table| {
            let known = table.hidden.entry(hidden.clone()).or_default();
            known.phone = Some(phone.clone());
            known.wish.map(|(at, wish)| (wish, at))
        })
    }

    async fn whose(&self, hidden: &HiddenContact) -> Result<Option<Msisdn>, StoreError> {
        self.aside("whose", |table| table.hidden.get(hidden)?.phone.clone())
    }

    async fn hidden_wish(
        &self,
        hidden: &HiddenContact,
        wish: Wish,
        at: Millis,
    ) -> Result<Option<Msisdn>, StoreError> {
        self.aside("hidden_wish", |table| {
            let known = table.hidden.entry(hidden.clone()).or_default();
            if known.wish.is_none_or(|(before, _)| before < at) {
                known.wish = Some((at, wish));
            }
            known.phone.clone()
        })
    }

    /// Always served from the cache: no round trip.
    async fn opted_out(&self, contact: &Contact, _now: Millis) -> Result<bool, StoreError> {
        let state = lock(&self.state);
        Ok(state
            .wishes
            .get(contact)
            .is_some_and(|(_, wish)| *wish == Wish::OptOut))
    }
}

impl DayIndex for MemoryOrders {
    async fn day(
        &self,
        tenant: &TenantId,
        day: Day,
        shard: u8,
        after: Option<&ReferenceId>,
        limit: u32,
    ) -> Result<DayPage, StoreError> {
        if self.network.begin("store.day").is_some() {
            return Err(lost());
        }
        let partition = day_partition_of(tenant, day, shard);
        let state = lock(&self.state);
        let mut keys: Vec<OrderKey> = state
            .items
            .iter()
            .filter(|(_, item)| item.day.as_ref() == Some(&partition))
            .map(|(key, _)| key.clone())
            .filter(|key| after.is_none_or(|after| key.reference > *after))
            .collect();
        keys.sort_by(|a, b| a.reference.cmp(&b.reference));
        let limit = usize::try_from(limit).unwrap();
        // As DynamoDB: a full page does not know whether it is the last.
        let more = keys.len() >= limit;
        keys.truncate(limit);
        Ok(DayPage { keys, more })
    }

    async fn load_all(&self, keys: &[OrderKey]) -> Result<Vec<Order>, StoreError> {
        assert!(keys.len() <= MOST_LOADED, "{} orders at once", keys.len());
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        if self.network.begin("store.load_all").is_some() {
            return Err(lost());
        }
        let state = lock(&self.state);
        let orders = keys.iter().filter_map(|key| state.order(key).transpose());
        orders.collect()
    }
}

impl Links for MemoryOrders {
    async fn shorten(&self, code: &ShortCode, key: &OrderKey) -> Result<(), StoreError> {
        self.aside("shorten", |table| {
            table.links.insert(code.clone(), key.clone());
        })
    }

    async fn follow(&self, code: &ShortCode) -> Result<Option<OrderKey>, StoreError> {
        self.aside("follow", |table| table.links.get(code).cloned())
    }
}

impl Leases for MemoryOrders {
    async fn take(
        &self,
        name: &str,
        holder: &str,
        now: Millis,
        until: Millis,
    ) -> Result<bool, StoreError> {
        self.aside("take", |table| {
            let free = table
                .leases
                .get(name)
                .is_none_or(|(other, end)| other == holder || *end <= now);
            if free {
                let lease = (holder.to_owned(), until);
                table.leases.insert(name.to_owned(), lease);
            }
            free
        })
    }

    async fn give_back(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.aside("give_back", |table| {
            table
                .leases
                .retain(|lease, (other, _)| lease != name || other != holder);
        })
    }
}

/// Why a write was refused, or that it was done.
enum Verdict {
    Done,
    Duplicate,
    Stale,
    Missing,
    /// No room.
    Full,
    /// There was no room before.
    More,
}

impl OrderStore for MemoryOrders {
    async fn create(&self, draft: &Draft) -> Result<Created, StoreError> {
        let (done, item) = self.write("create", &draft.key, |item| {
            if item.bill.is_some() || item.alias_of.is_some() {
                return (false, false);
            }
            item.bill = Some(serde_json::to_string(&draft.contents).unwrap());
            let created = texts(std::slice::from_ref(&draft.created));
            item.events = created.chain(item.events.drain(..)).collect();
            item.due = Some(draft.due);
            item.day = Some(day_partition(&draft.key, draft.contents.created_at));
            item.ttl = None;
            (true, true)
        })?;
        let item = item.whole(lock(&self.state).more.get(&draft.key));
        Ok(match item.order(&draft.key)? {
            Some(order) if done => Created::New(order),
            Some(order) => Created::Existing(order),
            None => Created::Taken,
        })
    }

    async fn load(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        let item = self.read("load", key)?;
        item.map_or(Ok(None), |item| item.order(key))
    }

    async fn resolve(&self, key: &OrderKey) -> Result<Option<ReferenceId>, StoreError> {
        Ok(self.read("resolve", key)?.and_then(|item| item.alias_of))
    }

    async fn append(&self, key: &OrderKey, append: &Append) -> Result<Appended, StoreError> {
        let (verdict, item) = self.write("append", key, |item| {
            let once = append.once.as_ref().map(Once::as_str);
            if item.bill.is_none() {
                return (false, Verdict::Missing);
            }
            if item.more {
                return (false, Verdict::More);
            }
            if once.is_some_and(|o| item.keys.contains(o)) {
                return (false, Verdict::Duplicate);
            }
            if append.expect.is_some_and(|e| item.events.len() != e) {
                return (false, Verdict::Stale);
            }
            if append.at_most.is_some_and(|most| item.events.len() >= most) {
                return (false, Verdict::Stale);
            }
            item.events.extend(texts(&append.events));
            item.keys.extend(once.map(str::to_owned));
            item.checks = 0;
            set_due(item, append.due);
            if item.bytes(key) > LARGEST_ITEM {
                return (false, Verdict::Full);
            }
            (true, Verdict::Done)
        })?;
        if matches!(verdict, Verdict::More) {
            return self.append_more(key, append);
        }
        if matches!(verdict, Verdict::Full) {
            if !append.events.iter().any(|r| r.event.is_about_money()) {
                return Err(StoreError::Full(key.to_string()));
            }
            self.write("mark_full", key, |item| {
                item.more = true;
                (true, ())
            })?;
            return self.append_more(key, append);
        }
        Ok(match (verdict, item.order(key)?, item.alias_of) {
            (Verdict::Done, Some(order), _) => Appended::Done(order),
            (Verdict::Duplicate, Some(order), _) => Appended::Duplicate(order),
            (Verdict::Stale, Some(order), _) => Appended::Stale(order),
            (_, _, Some(reference)) => Appended::Alias(reference),
            (_, _, None) => Appended::Missing,
        })
    }

    async fn park(
        &self,
        key: &OrderKey,
        once: &Once,
        events: &[Recorded],
        now: Millis,
    ) -> Result<Appended, StoreError> {
        let (_, item) = self.write("park", key, |item| {
            let known = item.keys.contains(once.as_str());
            if item.bill.is_some() || item.alias_of.is_some() || known {
                return (false, ());
            }
            item.events.extend(texts(events));
            item.keys.insert(once.as_str().to_owned());
            item.ttl = Some(now.plus_seconds(30 * 24 * 3600).seconds());
            (true, ())
        })?;
        if let Some(reference) = item.alias_of {
            return Ok(Appended::Alias(reference));
        }
        let Some(order) = item.order(key)? else {
            return Ok(Appended::Missing);
        };
        let mut all = order.events.clone();
        all.extend_from_slice(events);
        let after = Order::new(key.clone(), order.contents, all, None, 0);
        let due = [order.due, after.next_check(now)]
            .into_iter()
            .flatten()
            .min();
        let append = Append {
            once: Some(once.clone()),
            events: events.to_vec(),
            expect: None,
            at_most: None,
            due: due.map_or(Due::Keep, Due::At),
        };
        self.append(key, &append).await
    }

    async fn alias(&self, alias: &ReferenceId, key: &OrderKey) -> Result<bool, StoreError> {
        let name = OrderKey::new(key.tenant.clone(), alias.clone());
        let (done, _) = self.write("alias", &name, |item| {
            let other = item
                .alias_of
                .as_ref()
                .is_some_and(|of| *of != key.reference);
            if item.bill.is_some() || other {
                return (false, false);
            }
            item.alias_of = Some(key.reference.clone());
            item.events.clear();
            item.keys.clear();
            item.ttl = None;
            (true, true)
        })?;
        Ok(done)
    }

    async fn due(&self, shard: u8, now: Millis, limit: u32) -> Result<Vec<OrderKey>, StoreError> {
        if self.network.begin("store.due").is_some() {
            return Err(lost());
        }
        let state = lock(&self.state);
        let mut due: Vec<_> = state
            .items
            .iter()
            .filter(|(key, _)| due_shard(key) == shard)
            .filter_map(|(key, item)| item.due.map(|due| (due, key.clone())))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort();
        let keys = due.into_iter().map(|(_, key)| key);
        Ok(keys.take(usize::try_from(limit).unwrap()).collect())
    }

    async fn reschedule(
        &self,
        key: &OrderKey,
        expect: Option<usize>,
        due: Due,
        checks: u32,
    ) -> Result<bool, StoreError> {
        let beside = lock(&self.state)
            .more
            .get(key)
            .map_or(0, |m| m.events.len());
        let (done, _) = self.write("reschedule", key, |item| {
            let events = item.events.len() + beside;
            if item.bill.is_none() || expect.is_some_and(|expect| events != expect) {
                return (false, false);
            }
            set_due(item, due);
            item.checks = checks;
            (true, true)
        })?;
        Ok(done)
    }
}

// ---- Queue -------------------------------------------------------------------------------------------------------------

/// SQS forgets a deduplication id after five minutes.
const DEDUPLICATION: i64 = 300;
/// The queue's visibility timeout in `template.yaml`.
const VISIBILITY: i64 = 360;

/// A message in the hands of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Names this receiving.
    pub receipt: String,
    /// The task.
    pub task: DeliverTask,
    /// How often it was received, this time included.
    pub count: u32,
}

#[derive(Debug)]
struct Queued {
    task: DeliverTask,
    visible: Millis,
    receipt: Option<String>,
    count: u32,
}

#[derive(Debug, Default)]
struct Fifo {
    sent: Vec<DeliverTask>,
    duplicates: usize,
    deduplication: HashMap<String, Millis>,
    messages: VecDeque<Queued>,
    postponed: Vec<(String, u32)>,
    receipts: u64,
}

/// A FIFO queue: sequence within a group, groups independent, duplicates within five minutes dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueue {
    network: Network,
    clock: FixedClock,
    state: Arc<Mutex<Fifo>>,
}

impl MemoryQueue {
    /// An empty queue with a line and a clock of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty queue at the end of this line, by this clock.
    #[must_use]
    pub fn on(network: &Network, clock: &FixedClock) -> Self {
        Self {
            network: network.clone(),
            clock: clock.clone(),
            ..Self::default()
        }
    }

    /// Every task the queue took, in sequence; dropped duplicates are not in it.
    #[must_use]
    pub fn sent(&self) -> Vec<DeliverTask> {
        lock(&self.state).sent.clone()
    }

    /// How many tasks were dropped as duplicates.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        lock(&self.state).duplicates
    }

    /// Tasks that wait or are in somebody's hands.
    #[must_use]
    pub fn waiting(&self) -> Vec<DeliverTask> {
        let state = lock(&self.state);
        state.messages.iter().map(|m| m.task.clone()).collect()
    }

    /// What was held back, by receipt and seconds, in sequence.
    #[must_use]
    pub fn postponed(&self) -> Vec<(String, u32)> {
        lock(&self.state).postponed.clone()
    }

    /// The next message that may be handed out now: the first of its group, and not in anybody's hands.
    #[must_use]
    pub fn receive(&self) -> Option<Received> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        state.receipts += 1;
        let receipt = format!("receipt-{}", state.receipts);
        let mut groups = BTreeSet::new();
        let message = state
            .messages
            .iter_mut()
            .find(|m| groups.insert(m.task.group()) && m.visible <= now)?;
        message.count += 1;
        message.visible = now.plus_seconds(VISIBILITY);
        message.receipt = Some(receipt.clone());
        Some(Received {
            receipt,
            task: message.task.clone(),
            count: message.count,
        })
    }

    /// Takes a message off the queue. A receipt that is no longer the latest one of its message does nothing, as in SQS.
    pub fn delete(&self, receipt: &str) {
        let mut state = lock(&self.state);
        state
            .messages
            .retain(|m| m.receipt.as_deref() != Some(receipt));
    }
}

impl Queue for MemoryQueue {
    async fn send(&self, task: &DeliverTask) -> Result<(), QueueError> {
        let trouble = self.network.begin("queue.send");
        let broken = || Err(QueueError("the line is broken".to_owned()));
        if trouble == Some(Break::Request) {
            return broken();
        }
        let now = self.clock.now();
        // What is queued must be readable by a later version: it passes through its JSON.
        let text = serde_json::to_string(task).unwrap();
        let task: DeliverTask = serde_json::from_str(&text).unwrap();
        for id in [task.group(), task.deduplication()] {
            let fits = (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
            assert!(fits, "SQS would refuse the id {id}");
        }
        let mut state = lock(&self.state);
        state
            .deduplication
            .retain(|_, sent| now.seconds_since(*sent) < DEDUPLICATION);
        let id = task.deduplication();
        let known = state.deduplication.contains_key(&id);
        if known {
            state.duplicates += 1;
        }
        if !known {
            state.deduplication.insert(id, now);
            state.sent.push(task.clone());
            state.messages.push_back(Queued {
                task,
                visible: now,
                receipt: None,
                count: 0,
            });
        }
        drop(state);
        if trouble.is_some() { broken() } else { Ok(()) }
    }
}

impl Visibility for MemoryQueue {
    async fn postpone(&self, receipt: &str, seconds: u32) -> Result<(), QueueError> {
        if self.network.begin("queue.postpone").is_some() {
            return Err(QueueError("the line is broken".to_owned()));
        }
        let now = self.clock.now();
        let mut state = lock(&self.state);
        state.postponed.push((receipt.to_owned(), seconds));
        let held = |m: &&mut Queued| m.receipt.as_deref() == Some(receipt);
        if let Some(message) = state.messages.iter_mut().find(held) {
            message.visible = now.plus_seconds(seconds.into());
        }
        Ok(())
    }
}

/// A message that was put away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// As it was received.
    pub body: String,
    /// Why.
    pub reason: String,
    /// Its group.
    pub group: String,
    /// The queue's id of it.
    pub id: String,
}

/// Dead letters in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryDeadLetters {
    network: Network,
    letters: Arc<Mutex<Vec<Buried>>>,
}

impl MemoryDeadLetters {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// None yet, at the end of this line.
    #[must_use]
    pub fn on(network: &Network) -> Self {
        Self {
            network: network.clone(),
            ..Self::default()
        }
    }

    /// All of them, in sequence.
    #[must_use]
    pub fn letters(&self) -> Vec<Buried> {
        lock(&self.letters).clone()
    }
}

impl DeadLetters for MemoryDeadLetters {
    async fn bury(&self, body: &str, why: &str, group: &str, id: &str) -> Result<(), QueueError> {
        if self.network.begin("dead_letters.bury").is_some() {
            return Err(QueueError("the line is broken".to_owned()));
        }
        let mut letters = lock(&self.letters);
        if !letters.iter().any(|l| l.id == id) {
            letters.push(Buried {
                body: body.to_owned(),
                reason: why.to_owned(),
                group: group.to_owned(),
                id: id.to_owned(),
            });
        }
        Ok(())
    }
}

// ---- Tenants and settings ----------------------------------------------------------------------------------------------

/// Tenants in memory. They count no round trips: the real ones are cached.
#[derive(Debug, Clone, Default)]
pub struct MemoryTenants(Arc<Mutex<Documents>>);

type Documents = HashMap<TenantId, Result<Arc<Tenant>, String>>;

impl MemoryTenants {
    /// These tenants.
    #[must_use]
    pub fn new(tenants: impl IntoIterator<Item = Tenant>) -> Self {
        let all = Self::default();
        for tenant in tenants {
            all.put(tenant);
        }
        all
    }

    /// Adds or replaces a tenant.
    pub fn put(&self, tenant: Tenant) {
        lock(&self.0).insert(tenant.id.clone(), Ok(Arc::new(tenant)));
    }

    /// From now on this tenant's document is invalid, for this reason.
    pub fn spoil(&self, id: &TenantId, why: &str) {
        lock(&self.0).insert(id.clone(), Err(why.to_owned()));
    }
}

impl Tenants for MemoryTenants {
    async fn find(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>, TenantError> {
        let found = lock(&self.0).get(id).cloned();
        found.transpose().map_err(TenantError::Invalid)
    }

    fn known(&self) -> Vec<TenantId> {
        Vec::new()
    }

    async fn all(&self, _anew: bool) -> Result<Arc<HashSet<TenantId>>, TenantError> {
        Ok(Arc::new(lock(&self.0).keys().cloned().collect()))
    }
}

/// Settings in memory.
#[derive(Debug, Clone)]
pub struct MemorySettings {
    /// The public URL, or nothing when it cannot be read.
    pub public_url: Option<String>,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            public_url: Some("https://shop.example".to_owned()),
        }
    }
}

impl Settings for MemorySettings {
    async fn public_url(&self) -> Result<Arc<str>, SettingsError> {
        let url = self.public_url.as_deref().map(Arc::from);
        url.ok_or_else(|| SettingsError("no public URL".to_owned()))
    }
}

// ---- Time and randomness -----------------------------------------------------------------------------------------------

/// A clock that stands still until it is told to go on. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct FixedClock(Arc<Mutex<Millis>>);

impl Default for FixedClock {
    fn default() -> Self {
        Self::at(NOW)
    }
}

impl FixedClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(time: Millis) -> Self {
        Self(Arc::new(Mutex::new(time)))
    }

    /// Shows this time from now on.
    pub fn set(&self, time: Millis) {
        *lock(&self.0) = time;
    }

    /// Goes on by some seconds.
    pub fn advance(&self, seconds: i64) {
        let mut time = lock(&self.0);
        *time = time.plus_seconds(seconds);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Millis {
        *lock(&self.0)
    }

    /// Returns at once; the time has passed.
    async fn sleep(&self, time: Duration) {
        let passed = i64::try_from(time.as_millis()).unwrap();
        let mut now = lock(&self.0);
        *now = Millis::new(now.get() + passed);
    }
}

/// Randomness that is the same in every run (SplitMix64).
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    fn bytes(&self) -> [u8; 16] {
        let mut state = lock(&self.0);
        let mut next = || {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)).to_le_bytes()
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&next());
        bytes[8..].copy_from_slice(&next());
        bytes
    }
}

// ---- HTTP --------------------------------------------------------------------------------------------------------------

/// Vendors that answer what they were told to, by the label of the call.
#[derive(Debug, Clone, Default)]
pub struct ScriptedHttp {
    network: Network,
    state: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    next: HashMap<String, VecDeque<Answer>>,
    always: HashMap<String, Answer>,
    calls: Vec<HttpCall>,
}

impl ScriptedHttp {
    /// No answers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No answers yet, at the end of this line.
    #[must_use]
    pub fn on(network: &Network) -> Self {
        Self {
            network: network.clone(),
            ..Self::default()
        }
    }

    /// The next call of this label gets this answer; several wait in sequence.
    pub fn answer(&self, label: &str, answer: Answer) -> &Self {
        let mut state = lock(&self.state);
        state
            .next
            .entry(label.to_owned())
            .or_default()
            .push_back(answer);
        drop(state);
        self
    }

    /// The next call of this label gets this JSON with this status.
    pub fn reply(&self, label: &str, status: u16, body: &serde_json::Value) -> &Self {
        self.answer(label, reply(status, body))
    }

    /// Every call of this label that nothing else waits for gets this answer.
    pub fn always(&self, label: &str, answer: Answer) -> &Self {
        lock(&self.state).always.insert(label.to_owned(), answer);
        self
    }

    /// Every call so far, in sequence.
    #[must_use]
    pub fn calls(&self) -> Vec<HttpCall> {
        lock(&self.state).calls.clone()
    }

    /// The labels of every call so far.
    #[must_use]
    pub fn labels(&self) -> Vec<&'static str> {
        lock(&self.state).calls.iter().map(|c| c.label).collect()
    }

    /// How many answers were never asked for. A test that expects every call ends with this being 0.
    #[must_use]
    pub fn left_over(&self) -> usize {
        lock(&self.state).next.values().map(VecDeque::len).sum()
    }
}

impl HttpSend for ScriptedHttp {
    async fn send(&self, call: &HttpCall) -> Answer {
        let trouble = self.network.begin(call.label);
        if trouble == Some(Break::Request) {
            return Answer::NotSent("the line is broken".to_owned());
        }
        let mut state = lock(&self.state);
        state.calls.push(call.clone());
        let next = state.next.get_mut(call.label).and_then(VecDeque::pop_front);
        let answer = next.or_else(|| state.always.get(call.label).cloned());
        drop(state);
        let answer = answer.unwrap_or_else(|| panic!("nothing is scripted for {}", call.label));
        match trouble {
            Some(_) => Answer::Lost("the line is broken".to_owned()),
            None => answer,
        }
    }
}

/// An answer of this status with this JSON.
#[must_use]
pub fn reply(status: u16, body: &serde_json::Value) -> Answer {
    Answer::Reply(HttpReply {
        status,
        retry_after: None,
        body: body.to_string().into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builders::{bill, draft, key, tenant, tenant_id};
    use chatbill_domain::message::MessageKey;

    fn task(reference: &str, attempt: u32) -> DeliverTask {
        let key = key("acme", reference);
        DeliverTask {
            v: 1,
            tenant_id: key.tenant,
            reference_id: key.reference,
            message: MessageKey::Invoice(1),
            attempt,
        }
    }

    #[tokio::test]
    async fn orders_pass_the_suite() {
        crate::conformance::order_store(&MemoryOrders::new()).await;
        crate::conformance::contacts_and_links(&MemoryOrders::new()).await;
        crate::conformance::day_index(&MemoryOrders::new()).await;
        crate::conformance::leases(&MemoryOrders::new()).await;
        crate::conformance::item_limit(&MemoryOrders::new()).await;
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_write() {
        let line = Network::new();
        let store = MemoryOrders::on(&line);
        let draft = draft(bill());
        line.break_at(0, Break::Request);
        assert!(store.create(&draft).await.is_err());
        assert!(store.order(&draft.key).is_none());
        line.break_at(1, Break::Answer);
        assert!(store.create(&draft).await.is_err());
        assert!(store.order(&draft.key).is_some());
        assert_eq!(line.round_trips(), ["store.create", "store.create"]);
    }

    #[tokio::test]
    async fn a_group_keeps_its_sequence_and_does_not_hold_up_others() {
        let clock = FixedClock::default();
        let queue = MemoryQueue::on(&Network::new(), &clock);
        for task in [task("a", 0), task("a", 1), task("b", 0), task("a", 0)] {
            queue.send(&task).await.unwrap();
        }
        assert_eq!(queue.duplicates(), 1);
        let first = queue.receive().unwrap();
        assert_eq!(first.task, task("a", 0));
        assert_eq!(queue.receive().unwrap().task, task("b", 0));
        assert_eq!(queue.receive(), None);
        queue.postpone(&first.receipt, 10).await.unwrap();
        clock.advance(10);
        let again = queue.receive().unwrap();
        assert_eq!((again.task, again.count), (task("a", 0), 2));
        queue.delete(&first.receipt);
        assert_eq!(queue.waiting().len(), 3, "an old receipt deletes nothing");
        queue.delete(&again.receipt);
        assert_eq!(queue.receive().unwrap().task, task("a", 1));
        clock.advance(300);
        queue.send(&task("a", 0)).await.unwrap();
        assert_eq!(queue.sent().len(), 4);
    }

    #[tokio::test]
    async fn time_passes_while_sleeping() {
        let clock = FixedClock::default();
        clock.sleep(Duration::from_millis(1500)).await;
        assert_eq!(clock.now().get() - NOW.get(), 1500);
    }

    #[tokio::test]
    async fn tenants_are_found_missing_or_spoilt() {
        let tenants = MemoryTenants::new([tenant()]);
        let acme = tenant_id("acme");
        assert!(tenants.find(&acme).await.unwrap().is_some());
        assert!(tenants.find(&tenant_id("other")).await.unwrap().is_none());
        tenants.spoil(&acme, "broken");
        assert!(tenants.find(&acme).await.is_err());
    }

    #[test]
    fn randomness_repeats_with_its_seed() {
        let (a, b) = (SeededRandom::new(1), SeededRandom::new(1));
        assert_eq!(a.bytes(), b.bytes());
        assert_ne!(a.bytes(), SeededRandom::new(1).bytes());
    }
}
