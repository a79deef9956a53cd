//! The ports in memory. Every call stops twice, before its effect and after it, and goes on when the scheduler says so: in between
//! anything can happen, and it may never go on.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use chatbill_domain::connector::Wish;
use chatbill_domain::contact::Msisdn;
use chatbill_domain::event::{Once, Recorded};
use chatbill_domain::http::{Answer, HttpCall};
use chatbill_domain::ids::{OrderKey, ReferenceId};
use chatbill_domain::order::{Contents, Draft, Order};
use chatbill_domain::ports::{
    Append, Appended, Clock, Contact, Contacts, Created, DeliverTask, Due, HiddenContact, HttpSend,
    Links, OrderStore, Queue, QueueError, StoreError, Visibility, due_shard,
};
use chatbill_domain::time::Millis;
use chatbill_domain::token::ShortCode;

use crate::vendors::Vendors;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// It works.
    #[default]
    Good,
    /// The request never arrives.
    Unsent,
    /// It works, and the answer never arrives.
    Lost,
    /// Neither request nor answer arrives, and the caller cannot tell; with a vendor only.
    Vanished,
    /// The caller gives up waiting; the vendor acts so many seconds later; with a vendor only.
    Late(i64),
    /// 429; with a vendor only.
    Throttled,
    /// A server error of a vendor that did nothing.
    Broken,
    /// A server error of a vendor that acted.
    BrokenAfter,
}

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Which call.
    pub label: &'static str,
    /// Its effect has happened.
    pub done: bool,
}

/// What is known of a customer whose number is hidden: the number, once a report told of it, and the latest wish.
type Known = (Option<Msisdn>, Option<(Millis, Wish)>);

/// Everything there is.
#[derive(Debug, Default)]
pub struct State {
    /// The time, milliseconds.
    pub now: i64,
    pub(crate) items: BTreeMap<OrderKey, Item>,
    windows: BTreeMap<Contact, Millis>,
    pub(crate) wishes: BTreeMap<Contact, (Millis, Wish)>,
    /// When a customer's latest wish was stored, milliseconds.
    heard: BTreeMap<Contact, i64>,
    hidden: BTreeMap<HiddenContact, Known>,
    links: BTreeMap<ShortCode, OrderKey>,
    pub(crate) queue: Fifo,
    pub(crate) vendors: Vendors,
    /// Requests under way although nobody waits for them any more.
    pub(crate) late: Vec<(i64, HttpCall)>,
    /// What the next call to go on meets.
    pub fate: Fate,
    /// Where the process polled last stands.
    pub stop: Option<Stop>,
    /// Orders written since they were checked.
    pub(crate) dirty: Vec<OrderKey>,
    /// What is wrong.
    pub violation: Option<String>,
    /// What happened, when somebody wants to read it.
    pub trace: Option<Vec<String>>,
    /// A hash of what happened.
    pub print: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Item {
    pub(crate) contents: Option<Contents>,
    pub(crate) events: Vec<Recorded>,
    keys: Vec<String>,
    pub(crate) due: Option<Millis>,
    checks: u32,
    alias_of: Option<ReferenceId>,
    /// The order as it stands, computed once for each write.
    pub(crate) order: Option<Arc<Order>>,
}

impl Item {
    fn compute(&mut self, key: &OrderKey) {
        self.order = self.contents.clone().map(|contents| {
            let (key, events) = (key.clone(), self.events.clone());
            Arc::new(Order::new(key, contents, events, self.due, self.checks))
        });
    }

    fn set_due(&mut self, due: Due) {
        match due {
            Due::Keep => {}
            Due::At(at) => self.due = Some(at),
            Due::Never => self.due = None,
        }
    }
}

impl State {
    /// Something happened.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace.is_some() {
            let text = what();
            let line = format!("{:>10} {text}", self.now - START);
            for byte in line.bytes() {
                self.print = (self.print ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    /// Something is wrong; the first such thing counts.
    pub fn wrong(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.note(|| format!("WRONG: {what}"));
            self.violation = Some(what);
        }
    }

    /// Since when this order's customer does not want to be written to.
    pub(crate) fn silenced(&self, key: &OrderKey) -> Option<i64> {
        let phone = self.order(key)?.phone.clone();
        let contact = Contact {
            tenant: key.tenant.clone(),
            phone,
        };
        let (_, wish) = self.wishes.get(&contact)?;
        let since = self.heard.get(&contact)?;
        (*wish == Wish::OptOut).then_some(*since)
    }

    /// One order as it stands.
    #[must_use]
    pub fn order(&self, key: &OrderKey) -> Option<Arc<Order>> {
        self.items.get(key)?.order.clone()
    }
}

/// When every run begins, milliseconds.
pub const START: i64 = chatbill_testkit::builders::NOW.get();

/// All ports; clones are the same world.
#[derive(Debug, Clone, Default)]
pub struct World(Arc<Mutex<State>>);

impl World {
    /// Looks at it or changes it.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self, label: &'static str, done: bool) -> Gate<'_> {
        Gate {
            world: self,
            stop: Stop { label, done },
            waited: false,
        }
    }

    /// A call to one of our own services.
    async fn ours<T>(
        &self,
        label: &'static str,
        act: impl FnOnce(&mut State) -> T + Send,
    ) -> Option<T>
    where
        T: Send,
    {
        let fate = self.gate(label, false).await;
        if !matches!(fate, Fate::Good | Fate::Lost) {
            self.with(|s| s.note(|| format!("  {label}: {fate:?}")));
            return None;
        }
        let answer = self.with(|s| {
            s.note(|| format!("  {label}: {fate:?}"));
            act(s)
        });
        self.gate(label, true).await;
        (fate == Fate::Good).then_some(answer)
    }

    async fn stored<T>(
        &self,
        label: &'static str,
        act: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, StoreError>
    where
        T: Send,
    {
        let answer = self.ours(label, act).await;
        answer.ok_or_else(|| StoreError::Unavailable("the line is broken".to_owned()))
    }
}

/// Stops once and goes on with what the scheduler decided.
struct Gate<'a> {
    world: &'a World,
    stop: Stop,
    waited: bool,
}

impl Future for Gate<'_> {
    type Output = Fate;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fate> {
        let mut state = self.world.lock();
        if self.waited {
            return Poll::Ready(std::mem::take(&mut state.fate));
        }
        state.stop = Some(self.stop);
        drop(state);
        self.waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

// ---- Orders ------------------------------------------------------------------------------------------------------------

enum Verdict {
    Done,
    Duplicate,
    Stale,
    Missing,
}

/// What a write left behind.
struct Left<T> {
    answer: T,
    order: Option<Order>,
    alias_of: Option<ReferenceId>,
}

/// One conditional write: `act` says whether it changed the item, which is empty when there is none, and what to answer.
fn write<T>(
    state: &mut State,
    key: &OrderKey,
    act: impl FnOnce(&mut Item) -> (bool, T),
) -> Left<T> {
    let item = state.items.entry(key.clone()).or_default();
    let (done, answer) = act(item);
    if done {
        item.compute(key);
        state.dirty.push(key.clone());
    }
    Left {
        answer,
        order: item.order.as_deref().cloned(),
        alias_of: item.alias_of.clone(),
    }
}

impl OrderStore for World {
    async fn create(&self, draft: &Draft) -> Result<Created, StoreError> {
        let left = self
            .stored("store.create", |s| {
                write(s, &draft.key, |item| {
                    if item.contents.is_some() || item.alias_of.is_some() {
                        return (false, false);
                    }
                    item.contents = Some(draft.contents.clone());
                    item.events.insert(0, draft.created.clone());
                    item.due = Some(draft.due);
                    (true, true)
                })
            })
            .await?;
        Ok(match left.order {
            Some(order) if left.answer => Created::New(order),
            Some(order) => Created::Existing(order),
            None => Created::Taken,
        })
    }

    async fn load(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        let load = |s: &mut State| s.order(key).as_deref().cloned();
        self.stored("store.load", load).await
    }

    async fn resolve(&self, key: &OrderKey) -> Result<Option<ReferenceId>, StoreError> {
        self.stored("store.resolve", |s| s.items.get(key)?.alias_of.clone())
            .await
    }

    async fn append(&self, key: &OrderKey, append: &Append) -> Result<Appended, StoreError> {
        let act = |item: &mut Item| {
            let once = append.once.as_ref().map(Once::as_str);
            if item.contents.is_none() {
                return (false, Verdict::Missing);
            }
            if once.is_some_and(|o| item.keys.iter().any(|k| k == o)) {
                return (false, Verdict::Duplicate);
            }
            if append.expect.is_some_and(|e| item.events.len() != e)
                || append.at_most.is_some_and(|most| item.events.len() >= most)
            {
                return (false, Verdict::Stale);
            }
            item.events.extend(append.events.iter().cloned());
            item.keys.extend(once.map(str::to_owned));
            item.checks = 0;
            item.set_due(append.due);
            (true, Verdict::Done)
        };
        let left = self
            .stored("store.append", |s| {
                let left = write(s, key, act);
                s.note(|| {
                    let what = match left.answer {
                        Verdict::Done => "",
                        Verdict::Duplicate => "already there: ",
                        Verdict::Stale => "too late: ",
                        Verdict::Missing => "no such order: ",
                    };
                    let events: Vec<_> = append.events.iter().map(|e| &e.event).collect();
                    format!(
                        "    {what}{}",
                        serde_json::to_string(&events).unwrap_or_default()
                    )
                });
                left
            })
            .await?;
        Ok(match (left.answer, left.order, left.alias_of) {
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
        let left = self
            .stored("store.park", |s| {
                write(s, key, |item| {
                    let known = item.keys.iter().any(|k| k == once.as_str());
                    if item.contents.is_some() || item.alias_of.is_some() || known {
                        return (false, ());
                    }
                    item.events.extend(events.iter().cloned());
                    item.keys.push(once.as_str().to_owned());
                    (true, ())
                })
            })
            .await?;
        if let Some(reference) = left.alias_of {
            return Ok(Appended::Alias(reference));
        }
        let Some(order) = &left.order else {
            return Ok(Appended::Missing);
        };
        // The order appeared in between, and is due when what was planned or what these facts call for is.
        let after = events
            .iter()
            .fold(order.clone(), |order, event| order.with(event.clone()));
        let due = order.due.into_iter().chain(after.next_check(now)).min();
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
        let left = self
            .stored("store.alias", |s| {
                write(s, &name, |item| {
                    let other = item
                        .alias_of
                        .as_ref()
                        .is_some_and(|of| *of != key.reference);
                    if item.contents.is_some() || other {
                        return (false, false);
                    }
                    item.alias_of = Some(key.reference.clone());
                    item.events.clear();
                    item.keys.clear();
                    (true, true)
                })
            })
            .await?;
        Ok(left.answer)
    }

    async fn due(&self, shard: u8, now: Millis, limit: u32) -> Result<Vec<OrderKey>, StoreError> {
        self.stored("store.due", |s| {
            let mut due: Vec<_> = s
                .items
                .iter()
                .filter_map(|(key, item)| item.due.map(|due| (due, key)))
                .filter(|(due, key)| *due <= now && due_shard(key) == shard)
                .collect();
            due.sort();
            let keys = due.into_iter().map(|(_, key)| key.clone());
            keys.take(usize::try_from(limit).unwrap_or(usize::MAX))
                .collect()
        })
        .await
    }

    async fn reschedule(
        &self,
        key: &OrderKey,
        expect: Option<usize>,
        due: Due,
        checks: u32,
    ) -> Result<bool, StoreError> {
        let left = self
            .stored("store.reschedule", |s| {
                write(s, key, |item| {
                    if item.contents.is_none() || expect.is_some_and(|e| item.events.len() != e) {
                        return (false, false);
                    }
                    item.set_due(due);
                    item.checks = checks;
                    (true, true)
                })
            })
            .await?;
        Ok(left.answer)
    }
}

impl Contacts for World {
    async fn open_window(&self, contact: &Contact, until: Millis) -> Result<(), StoreError> {
        self.stored("store.open_window", |s| {
            let known = s.windows.entry(contact.clone()).or_insert(until);
            *known = (*known).max(until);
        })
        .await
    }

    async fn window(&self, contact: &Contact) -> Result<Option<Millis>, StoreError> {
        self.stored("store.window", |s| s.windows.get(contact).copied())
            .await
    }

    async fn wish(&self, contact: &Contact, wish: Wish, at: Millis) -> Result<(), StoreError> {
        self.stored("store.wish", |s| {
            let known = s.wishes.entry(contact.clone()).or_insert((at, wish));
            if known.0 < at {
                *known = (at, wish);
            }
            let now = s.now;
            s.heard.insert(contact.clone(), now);
        })
        .await
    }

    async fn meet(
        &self,
        hidden: &HiddenContact,
        phone: &Msisdn,
    ) -> Result<Option<(Wish, Millis)>, StoreError> {
        self.stored("store.meet", |s| {
            let known = s.hidden.entry(hidden.clone()).or_default();
            known.0 = Some(phone.clone());
            known.1.map(|(at, wish)| (wish, at))
        })
        .await
    }

    async fn whose(&self, hidden: &HiddenContact) -> Result<Option<Msisdn>, StoreError> {
        self.stored("store.whose", |s| s.hidden.get(hidden)?.0.clone())
            .await
    }

    async fn hidden_wish(
        &self,
        hidden: &HiddenContact,
        wish: Wish,
        at: Millis,
    ) -> Result<Option<Msisdn>, StoreError> {
        self.stored("store.hidden_wish", |s| {
            let known = s.hidden.entry(hidden.clone()).or_default();
            if known.1.is_none_or(|(before, _)| before < at) {
                known.1 = Some((at, wish));
            }
            known.0.clone()
        })
        .await
    }

    /// Served from the cache, as it nearly always is.
    async fn opted_out(&self, contact: &Contact, _now: Millis) -> Result<bool, StoreError> {
        Ok(self.with(|s| {
            let wish = s.wishes.get(contact).map(|(_, wish)| *wish);
            wish == Some(Wish::OptOut)
        }))
    }
}

impl Links for World {
    async fn shorten(&self, code: &ShortCode, key: &OrderKey) -> Result<(), StoreError> {
        self.stored("store.shorten", |s| {
            s.links.insert(code.clone(), key.clone());
        })
        .await
    }

    async fn follow(&self, code: &ShortCode) -> Result<Option<OrderKey>, StoreError> {
        self.stored("store.follow", |s| s.links.get(code).cloned())
            .await
    }
}

// ---- Queue -------------------------------------------------------------------------------------------------------------

/// SQS forgets a deduplication id after five minutes.
const DEDUPLICATION: i64 = 300_000;
/// The queue's visibility time-out in `template.yaml`.
const VISIBILITY: i64 = 360_000;

#[derive(Debug, Default)]
pub(crate) struct Fifo {
    known: BTreeMap<String, i64>,
    pub(crate) messages: VecDeque<Queued>,
    receipts: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) task: DeliverTask,
    pub(crate) visible: i64,
    receipt: u64,
    count: u32,
}

impl Fifo {
    /// The message at `index` is handed out.
    pub(crate) fn receive(&mut self, index: usize, now: i64) -> Option<(u64, DeliverTask, u32)> {
        self.receipts += 1;
        let receipt = self.receipts;
        let message = self.messages.get_mut(index)?;
        message.receipt = receipt;
        message.count += 1;
        message.visible = now + VISIBILITY;
        Some((receipt, message.task.clone(), message.count))
    }

    /// The first message of its group that nobody holds.
    pub(crate) fn next(&self, now: i64) -> Option<usize> {
        let first = |index: usize| {
            let group = self.messages[index].task.group();
            self.messages
                .iter()
                .take(index)
                .all(|m| m.task.group() != group)
        };
        (0..self.messages.len()).find(|i| self.messages[*i].visible <= now && first(*i))
    }

    /// When the next message can be handed out; those behind another one of their group wait for it.
    pub(crate) fn next_at(&self) -> Option<i64> {
        let mut groups = Vec::new();
        let mut heads = Vec::new();
        for message in &self.messages {
            let group = message.task.group();
            if !groups.contains(&group) {
                groups.push(group);
                heads.push(message.visible);
            }
        }
        heads.into_iter().min()
    }

    /// A receipt that is not the latest one of its message does nothing, as in SQS.
    pub(crate) fn delete(&mut self, receipt: u64) {
        self.messages.retain(|m| m.receipt != receipt);
    }
}

impl Queue for World {
    async fn send(&self, task: &DeliverTask) -> Result<(), QueueError> {
        let sent = self
            .ours("queue.send", |s| {
                let now = s.now;
                s.queue.known.retain(|_, sent| now - *sent < DEDUPLICATION);
                let id = task.deduplication();
                s.note(|| format!("    {id}"));
                if let std::collections::btree_map::Entry::Vacant(free) = s.queue.known.entry(id) {
                    free.insert(now);
                    s.queue.messages.push_back(Queued {
                        task: task.clone(),
                        visible: now,
                        receipt: 0,
                        count: 0,
                    });
                }
            })
            .await;
        sent.ok_or_else(|| QueueError("the line is broken".to_owned()))
    }
}

impl Visibility for World {
    async fn postpone(&self, receipt: &str, seconds: u32) -> Result<(), QueueError> {
        let held = self
            .ours("queue.postpone", |s| {
                let until = s.now + i64::from(seconds) * 1000;
                let receipt: u64 = receipt.parse().unwrap_or_default();
                for message in &mut s.queue.messages {
                    if message.receipt == receipt {
                        message.visible = until;
                    }
                }
            })
            .await;
        held.ok_or_else(|| QueueError("the line is broken".to_owned()))
    }
}

// ---- Vendors and time --------------------------------------------------------------------------------------------------

impl HttpSend for World {
    async fn send(&self, call: &HttpCall) -> Answer {
        let fate = self.gate(call.label, false).await;
        let timed_out = || Answer::Lost("timed out".to_owned());
        self.with(|s| s.note(|| format!("  {}: {fate:?}", call.label)));
        match fate {
            Fate::Unsent => return Answer::NotSent("no connection".to_owned()),
            Fate::Vanished => return timed_out(),
            Fate::Throttled => return crate::vendors::throttled(call),
            Fate::Broken => return crate::vendors::broken(),
            Fate::Late(seconds) => {
                self.with(|s| {
                    let at = s.now + seconds * 1000;
                    s.late.push((at, call.clone()));
                });
                self.gate(call.label, true).await;
                return timed_out();
            }
            Fate::Good | Fate::Lost | Fate::BrokenAfter => {}
        }
        let reply = self.with(|s| crate::vendors::act(s, call));
        self.gate(call.label, true).await;
        match fate {
            Fate::Lost => timed_out(),
            Fate::BrokenAfter => crate::vendors::broken(),
            _ => Answer::Reply(reply),
        }
    }
}

/// A process's own clock: near the time, not on it.
#[derive(Debug, Clone)]
pub struct Skewed {
    /// Where the time is.
    pub world: World,
    /// Milliseconds it is ahead.
    pub ahead: i64,
}

impl Clock for Skewed {
    fn now(&self) -> Millis {
        Millis::new(self.world.lock().now + self.ahead)
    }

    async fn sleep(&self, time: Duration) {
        self.world.lock().now += i64::try_from(time.as_millis()).unwrap_or(0);
        self.world.gate("sleep", true).await;
    }
}
