//! One run: a world, the processes in it, and whoever decides what happens next.

use std::collections::BTreeMap;
use std::sync::Arc;

use chatbill_domain::bill::Bill;
use chatbill_domain::event::Event;
use chatbill_domain::ids::OrderKey;
use chatbill_domain::message::Fulfilment;
use chatbill_domain::money::Paise;
use chatbill_domain::pace::Pace;
use chatbill_domain::payment::Speed;
use chatbill_domain::refund::Ask;
use chatbill_testkit::builders;
use chatbill_testkit::memory::SeededRandom;
use serde_json::json;

use crate::check::{self, Seen};
use crate::logs;
use crate::process::{Around, Arrived, End, Job, Process};
use crate::rng::Rng;
use crate::shop::{self, Shop, Tenants};
use crate::vendors::{self, ACME, About, Hook, Paid, Through};
use crate::world::{Fate, START, State, World};

/// The bill's total, paise.
pub(crate) const TOTAL: i64 = 85_000;
/// After this time everything has been tried often enough, milliseconds: money can come late for five days.
const LIFE: i64 = 8 * 24 * 3600 * 1000;
/// The schedule of `reconcile`, milliseconds.
const RUN: i64 = 300_000;

/// Where in a run one thing goes wrong, for runs in which only one thing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which stop of the run, from 0.
    pub at: usize,
    /// What happens there.
    pub how: How,
}

/// What can happen at a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The process dies.
    Dies,
    /// The call meets this.
    Meets(Fate),
}

/// A bill the shop wants to post.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) key: OrderKey,
    bill: Bill,
    /// The shop has begun to post it.
    begun: bool,
    /// The shop was told that it is taken.
    pub(crate) taken: bool,
    /// It was told that it cannot be taken.
    refused: bool,
}

/// A refund the shop asks for until it knows.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) key: OrderKey,
    pub(crate) id: String,
    ask: Ask,
    /// The shop knows.
    known: bool,
    /// It was told that it is done, or under way.
    pub(crate) taken: bool,
}

/// A run.
pub struct Run {
    /// Its world.
    pub world: World,
    around: Around,
    pub(crate) rng: Rng,
    processes: Vec<Process>,
    started: u32,
    pub(crate) bills: Vec<Wanted>,
    pub(crate) asked: Vec<Asked>,
    /// Refunds whose webhook was acknowledged.
    pub(crate) told: Vec<String>,
    seen: BTreeMap<OrderKey, Seen>,
    next_run: i64,
    /// Stops so far.
    pub stops: usize,
    /// Of each stop so far, whether it was before a call to a vendor.
    pub(crate) passed: Vec<bool>,
    /// The last process that ended told its caller how it stands.
    pub(crate) heard: bool,
    /// The one thing that goes wrong.
    pub fault: Option<Fault>,
    /// How often calls meet trouble, in a thousand.
    trouble: u32,
    /// Stops are listed.
    pub(crate) listing: bool,
    /// How often a process dies at a stop, in a thousand.
    deaths: u32,
    skew: i64,
    /// Documents that the tenant may have instead of the one it has.
    kin: Vec<Arc<Shop>>,
    /// The tenant's document has been changed.
    has_moved: bool,
    /// Where customers write to.
    provider: &'static str,
}

impl Run {
    /// A new world with one bill to post.
    #[must_use]
    pub fn new(seed: u64, shop: &Arc<Shop>, traced: bool) -> Self {
        let world = World::default();
        world.with(|s| {
            s.now = START;
            s.trace = traced.then(Vec::new);
            s.vendors.rng = Rng::new(seed.wrapping_mul(31).wrapping_add(7));
            s.note(|| format!("seed {seed}, shop {}", shop.name));
        });
        logs::forget();
        let mut run = Self {
            around: Around {
                world: world.clone(),
                tenants: Tenants::new(shop),
                pace: Arc::new(Pace::new(1)),
                random: Arc::new(SeededRandom::new(seed)),
            },
            world,
            rng: Rng::new(seed),
            processes: Vec::new(),
            started: 0,
            bills: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            seen: BTreeMap::new(),
            next_run: START + RUN,
            stops: 0,
            passed: Vec::new(),
            heard: false,
            fault: None,
            trouble: 0,
            listing: false,
            deaths: 0,
            skew: 0,
            kin: Vec::new(),
            has_moved: false,
            provider: if shop.channel.name() == "meta" {
                "meta"
            } else {
                "exotel"
            },
        };
        run.want(ACME, "BM345A-12");
        run
    }

    /// Documents the tenant's may be changed to while its orders are open: those of the same messaging provider.
    pub(crate) fn may_become(&mut self, shops: &[Arc<Shop>]) {
        let alike =
            |shop: &&Arc<Shop>| (shop.channel.name() == "meta") == (self.provider == "meta");
        self.kin = shops.iter().filter(alike).cloned().collect();
    }

    fn want(&mut self, tenant: &str, reference: &str) {
        let bill = builders::bill_with(|bill| bill["reference_id"] = json!(reference));
        self.bills.push(Wanted {
            key: builders::key(tenant, reference),
            bill,
            begun: false,
            taken: false,
            refused: false,
        });
    }

    fn now(&self) -> i64 {
        self.world.with(|s| s.now)
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        self.world.with(|s| s.violation.clone())
    }

    // ---- Processes -----------------------------------------------------------------------------------------------------

    /// Starts a process.
    pub(crate) fn start(&mut self, job: Job) -> u32 {
        self.started += 1;
        let id = self.started;
        let ahead = if self.skew == 0 {
            0
        } else {
            self.rng.within(-self.skew, self.skew)
        };
        let hook = match &job {
            Job::Hook(id) => self.world.with(|s| {
                let hook = s.vendors.hooks.iter().find(|h| h.id == *id);
                hook.map(|h| Arrived {
                    tenant: h.tenant,
                    source: h.source,
                    raw: h.raw.clone(),
                })
            }),
            _ => None,
        };
        self.world
            .with(|s| s.note(|| format!("[{id}] begins: {}", job.label())));
        self.processes
            .push(Process::start(id, &self.around, job, ahead, hook));
        id
    }

    /// Lets a process go on to its next stop; gives how it ended if it did.
    fn step(&mut self, index: usize, fate: Fate) {
        let Some(process) = self.processes.get_mut(index) else {
            return;
        };
        let number = self.stops;
        let mut fate = fate;
        if let Some(stop) = process.stop {
            self.stops += 1;
            if self.listing {
                self.passed.push(!stop.done && is_vendor(stop.label));
            }
            if let Some(fault) = self.fault
                && fault.at == number
            {
                match fault.how {
                    How::Dies => return self.kill(index),
                    How::Meets(met) if !stop.done => fate = met,
                    How::Meets(_) => {}
                }
            }
            if stop.done {
                fate = Fate::Good;
            }
            let id = process.id;
            self.world.with(|s| {
                s.fate = fate;
                if !stop.done {
                    s.note(|| format!("[{id}]"));
                }
            });
        }
        let ended = process.go_on(&self.world);
        self.check();
        if let Some(end) = ended {
            let process = self.processes.remove(index);
            let answer_lost = self.trouble > 0 && self.rng.permille(self.trouble);
            self.ended(&process, &end, answer_lost);
        }
    }

    fn kill(&mut self, index: usize) {
        self.heard = false;
        let process = self.processes.remove(index);
        self.world
            .with(|s| s.note(|| format!("[{}] dies at {:?}", process.id, process.stop)));
        if let Job::Hook(id) = process.job {
            self.again(id);
        }
    }

    fn ended(&mut self, process: &Process, end: &End, answer_lost: bool) {
        let id = process.id;
        self.heard = !answer_lost && !matches!(end, End::Again(_));
        self.world.with(|s| {
            s.note(|| {
                format!(
                    "[{id}] ends: {end:?}{}",
                    if answer_lost {
                        ", and nobody hears it"
                    } else {
                        ""
                    }
                )
            })
        });
        match (&process.job, end) {
            (Job::Hook(hook), End::Done) if !answer_lost => self.acknowledged(*hook),
            (Job::Hook(hook), End::Refused(why)) => {
                let label = self.world.with(|s| {
                    s.vendors
                        .hooks
                        .iter()
                        .find(|h| h.id == *hook)
                        .map(|h| h.label.clone())
                });
                if let Some(label) = label {
                    self.world
                        .with(|s| s.wrong(|| format!("the webhook {label} is refused: {why}")));
                }
            }
            (Job::Hook(hook), _) => self.again(*hook),
            (Job::Send { receipt, .. }, End::Done) if !answer_lost => {
                self.world.with(|s| s.queue.delete(*receipt))
            }
            (Job::Post(tenant, bill), End::Done) if !answer_lost => {
                for wanted in &mut self.bills {
                    wanted.taken |=
                        wanted.key.tenant == *tenant && wanted.key.reference == bill.reference;
                }
            }
            (Job::Post(tenant, bill), End::Refused(_)) => {
                for wanted in &mut self.bills {
                    wanted.refused |=
                        wanted.key.tenant == *tenant && wanted.key.reference == bill.reference;
                }
            }
            (Job::Refund(_, name, _), End::Done | End::Refused(_)) if !answer_lost => {
                for asked in self.asked.iter_mut().filter(|a| a.id == *name) {
                    asked.known = true;
                    asked.taken |= matches!(end, End::Done);
                }
            }
            _ => {}
        }
    }

    /// A webhook that was not acknowledged comes again.
    fn again(&mut self, id: u32) {
        self.world.with(|s| {
            let now = s.now;
            if let Some(hook) = s.vendors.hooks.iter_mut().find(|h| h.id == id) {
                hook.tries += 1;
                hook.at = now + 60_000 * i64::from(hook.tries.min(60));
            }
        });
    }

    /// A webhook was acknowledged: from now on its effect has to be there.
    fn acknowledged(&mut self, id: u32) {
        let twice = self.trouble > 0 && self.rng.permille(150);
        let later = self.rng.within(0, 900) * 1000;
        let hook = self.world.with(|s| {
            let now = s.now;
            let index = s.vendors.hooks.iter().position(|h| h.id == id)?;
            let hook = s.vendors.hooks[index].clone();
            if twice {
                s.vendors.hooks[index].at = now + later;
            } else {
                s.vendors.hooks.remove(index);
            }
            check::acknowledged(s, &hook);
            Some(hook)
        });
        if let Some(Hook {
            about: About::Refund(id),
            ..
        }) = hook
        {
            self.told.push(id);
        }
    }

    /// Checks what was written since the last check.
    fn check(&mut self) {
        let seen = &mut self.seen;
        self.world.with(|s| {
            if let Some(token) = vendors::refunded_twice(&s.vendors) {
                let token = token.to_owned();
                s.wrong(|| format!("the refund {token} was made twice"));
            }
            for key in std::mem::take(&mut s.dirty) {
                if let Some(order) = s.order(&key) {
                    check::order(s, &order, seen.entry(key).or_default());
                }
            }
        });
        let (lines, leak) = logs::take_lines();
        self.world.with(|s| {
            for line in lines {
                s.note(|| format!("    log:{line}"));
            }
            if let Some(leak) = leak {
                s.wrong(|| format!("a log line shows what it must not: {leak}"));
            }
        });
    }

    // ---- Time ----------------------------------------------------------------------------------------------------------

    fn advance_to(&mut self, to: i64) {
        self.world.with(|s| {
            s.now = s.now.max(to);
            let now = s.now;
            vendors::arrive_late(s);
            s.vendors.expire_links(now);
            s.vendors.settle_refunds(now);
        });
        let now = self.now();
        while let Some(index) = self.processes.iter().position(|p| p.ends <= now) {
            self.kill(index);
        }
        self.check();
    }

    pub(crate) fn advance(&mut self, seconds: i64) {
        let to = self.now() + seconds * 1000;
        self.world.with(|s| s.note(|| format!("{seconds} s pass")));
        self.advance_to(to);
    }

    // ---- What can happen -----------------------------------------------------------------------------------------------

    /// Runs one process to its end, undisturbed but for the one fault.
    pub(crate) fn finish(&mut self, id: u32) {
        while let Some(index) = self.processes.iter().position(|p| p.id == id) {
            self.step(index, Fate::Good);
        }
    }

    /// Runs all processes to their end, in turn.
    fn finish_all(&mut self) {
        while !self.processes.is_empty() {
            for index in (0..self.processes.len()).rev() {
                self.step(index, Fate::Good);
            }
        }
    }

    pub(crate) fn receive(&mut self, index: usize) -> Option<u32> {
        let (receipt, task, count) = self.world.with(|s| {
            let now = s.now;
            s.queue.receive(index, now)
        })?;
        Some(self.start(Job::Send {
            receipt,
            task,
            first: count == 1,
        }))
    }

    /// What the queue would hand out next.
    pub(crate) fn receive_next(&mut self) -> Option<u32> {
        let now = self.now();
        let index = self.world.with(|s| s.queue.next(now))?;
        self.receive(index)
    }

    /// One webhook arrives, when its time has come; false when there is none.
    pub(crate) fn one_hook(&mut self) -> bool {
        let Some(at) = self
            .world
            .with(|s| s.vendors.hooks.iter().map(|h| h.at).min())
        else {
            return false;
        };
        if at > self.now() {
            self.advance_to(at);
        }
        let now = self.now();
        if let Some(id) = self
            .world
            .with(|s| s.vendors.hooks.iter().find(|h| h.at <= now).map(|h| h.id))
        {
            let id = self.start(Job::Hook(id));
            self.finish(id);
        }
        true
    }

    pub(crate) fn hook_at(&mut self, at: usize) -> u32 {
        let id = self.world.with(|s| s.vendors.hooks.get(at).map(|h| h.id));
        id.map_or(0, |id| self.start(Job::Hook(id)))
    }

    pub(crate) fn capture_failed(&mut self) {
        self.world.with(|s| {
            let now = s.now;
            if let Some(index) = s.vendors.payments.iter().position(|p| p.status == "failed") {
                s.note(|| "a failed payment is captured after all".to_owned());
                s.vendors.capture(now, index);
            }
        });
    }

    pub(crate) fn held(&self) -> Vec<String> {
        let order = self.world.with(|s| s.order(&self.bills[0].key));
        order
            .map(|o| o.holds.iter().map(|(_, _, id)| id.clone()).collect())
            .unwrap_or_default()
    }

    pub(crate) fn refund_in_dashboard(&mut self, amount: i64, pick: usize) {
        self.world.with(|s| {
            let now = s.now;
            let captured: Vec<String> = s
                .vendors
                .payments
                .iter()
                .filter(|p| p.status == "captured")
                .map(|p| p.id.clone())
                .collect();
            if let Some(payment) = captured.get(pick % captured.len().max(1)) {
                s.note(|| format!("the dashboard refunds {amount} of {payment}"));
                s.vendors.give_back(now, payment, amount, None, json!({}));
            }
        });
    }

    /// The till asks for its refunds until it knows of each how it stands.
    pub(crate) fn ask_until_known(&mut self) {
        for _ in 0..10 {
            let Some(asked) = self.asked.iter().find(|a| !a.known) else {
                return;
            };
            let job = Job::Refund(asked.key.clone(), asked.id.clone(), asked.ask.clone());
            self.advance(5);
            let id = self.start(job);
            self.finish(id);
        }
    }

    pub(crate) fn is_alive(&self, id: u32) -> bool {
        self.processes.iter().any(|p| p.id == id)
    }

    /// Lets a process go on until it is about to do something that another one could get in front of.
    pub(crate) fn run_to_next_effect(&mut self, id: u32) {
        while let Some(index) = self.processes.iter().position(|p| p.id == id) {
            let waits = self.processes[index].stop.is_some_and(|stop| {
                !stop.done && stop.label != "store.due" && stop.label != "sleep"
            });
            if waits {
                return;
            }
            self.step(index, Fate::Good);
        }
    }

    /// Lets a process do that.
    pub(crate) fn through_effect(&mut self, id: u32) {
        if let Some(index) = self.processes.iter().position(|p| p.id == id) {
            self.step(index, Fate::Good);
        }
        self.run_to_next_effect(id);
    }

    pub(crate) fn ask_back(&mut self, amount: Option<i64>, payment: Option<String>) -> u32 {
        let number = self.asked.len() + 1;
        self.ask_back_of(number, amount, payment)
    }

    pub(crate) fn ask_back_as(&mut self, number: usize, amount: Option<i64>) -> u32 {
        self.ask_back_of(number, amount, None)
    }

    fn ask_back_of(&mut self, number: usize, amount: Option<i64>, payment: Option<String>) -> u32 {
        let key = self.bills[0].key.clone();
        let id = format!("r-{number}");
        let ask = Ask {
            amount: amount.and_then(|a| Paise::new(a).ok()),
            payment_id: payment,
            speed: Speed::Normal,
            reason: None,
        };
        self.asked.push(Asked {
            key: key.clone(),
            id: id.clone(),
            ask: ask.clone(),
            known: false,
            taken: false,
        });
        self.start(Job::Refund(key, id, ask))
    }

    pub(crate) fn post(&mut self, index: usize) -> u32 {
        let Some(wanted) = self.bills.get_mut(index) else {
            return 0;
        };
        wanted.begun = true;
        let (tenant, bill) = (wanted.key.tenant.clone(), wanted.bill.clone());
        self.start(Job::Post(tenant, Box::new(bill)))
    }

    /// A customer pays, if there is anything to pay: a link that is on record, or a message with a checkout.
    pub(crate) fn pay(&mut self, paid: Paid) -> bool {
        let pick = self.rng.number();
        self.world.with(|s| {
            let now = s.now;
            s.vendors.expire_links(now);
            // Nobody is given a link that is not on record.
            let given: Vec<String> = s
                .items
                .values()
                .flat_map(|i| &i.events)
                .filter_map(|e| match &e.event {
                    Event::Started(started) => Some(started.id.clone()),
                    _ => None,
                })
                .collect();
            let links = s.vendors.links.iter().enumerate();
            let open = links.filter(|(_, l)| l.status == "created" && given.contains(&l.id));
            let mut ways: Vec<Through> = open.map(|(at, _)| Through::Link(at)).collect();
            // Inside WhatsApp the customer can pay until the order is over.
            for (at, checkout) in s.vendors.checkouts.iter().enumerate() {
                let order = s.items.get(&checkout.owner).and_then(|i| i.order.as_ref());
                let through = Through::Checkout(at);
                let is_paid = |p: &vendors::Payment| p.through == through && p.status == "captured";
                if !s.vendors.payments.iter().any(is_paid)
                    && order
                        .is_some_and(|o| o.payment_status().is_open() && o.expires_at().get() > now)
                {
                    ways.push(through);
                }
            }
            let Some(way) = ways.get(usize::try_from(pick).unwrap_or(0) % ways.len().max(1)) else {
                return false;
            };
            s.note(|| format!("the customer pays through {way:?}: {paid:?}"));
            s.vendors.pay(now, *way, paid);
            true
        })
    }

    /// The bill's sum, with the fee of the account where the customer bears it.
    pub(crate) fn sum(&self, status: &'static str, silent: bool) -> Paid {
        let fee = self.world.with(|s| s.vendors.fee);
        Paid {
            amount: TOTAL + fee,
            fee,
            offer: 0,
            status,
            silent,
        }
    }

    /// Another sum than the bill's, and nobody says why.
    pub(crate) const fn other_sum(amount: i64) -> Paid {
        Paid {
            amount,
            fee: 0,
            offer: 0,
            status: "captured",
            silent: false,
        }
    }

    // ---- A storm -------------------------------------------------------------------------------------------------------

    /// A run that follows from its seed: a storm, then quiet days.
    pub fn storm(&mut self) {
        // Not every run has everything, or rare things would always be drowned.
        self.trouble = *self.rng.pick(&[0, 10, 30, 80, 200]);
        self.deaths = *self.rng.pick(&[0, 5, 15, 40]);
        self.skew = *self.rng.pick(&[0, 500, 1500]);
        let moody = *self.rng.pick(&[0, 0, 60, 250]);
        let ahead = *self.rng.pick(&[0, 0, 2, -2, 40, -40]);
        let memory = *self.rng.pick(&[60_000, 24 * 3600 * 1000, i64::MAX]);
        self.world.with(|s| {
            s.vendors.moody = moody;
            s.vendors.ahead = ahead;
            s.vendors.memory = memory;
        });
        if self.rng.permille(100) {
            // A bill whose number another bill's second sending would like to have.
            self.want(ACME, "BM345A-12-2");
        }
        if self.rng.permille(250) {
            // Another tenant with the same account and the same number on a bill.
            let neighbour = shop::neighbour();
            self.want(neighbour.tenant.id.as_str(), "BM345A-12");
            self.around.tenants.put(&neighbour);
            self.world.with(|s| s.vendors.shared = true);
        }
        if !self.rng.permille(200) {
            self.kin.clear();
        }
        if self.rng.permille(150) {
            self.world.with(|s| s.vendors.fee = 1003);
        }
        let busy = *self.rng.pick(&[550, 750, 900]);
        let reach = *self.rng.pick(&[2, 20, 20, 400]);
        let steps = self.rng.within(30, 220);
        for _ in 0..steps {
            if !self.processes.is_empty() && self.rng.permille(busy) {
                let index = self.rng.below(self.processes.len());
                if self.deaths > 0 && self.rng.permille(self.deaths) {
                    self.kill(index);
                } else {
                    let fate = self.fate(index);
                    self.step(index, fate);
                }
            } else {
                self.happen(reach);
            }
            if self.world.with(|s| s.violation.is_some()) {
                return;
            }
        }
        if self.rng.permille(20) {
            self.flood();
        }
        let pays = self.rng.permille(600);
        self.calm(pays);
    }

    /// A till that does not stop: the order refuses it in time, and what comes of the money is still taken.
    fn flood(&mut self) {
        let key = self.bills[0].key.clone();
        let kind = self.rng.below(3);
        self.world
            .with(|s| s.note(|| "a till does not stop".to_owned()));
        for n in 0..130 {
            let job = match (kind, n % 2) {
                (0, _) => Job::Resend(key.clone(), None),
                (_, 0) => Job::Fulfil(key.clone(), Fulfilment::Processing),
                _ => Job::Fulfil(key.clone(), Fulfilment::Shipped),
            };
            if kind == 0 {
                self.advance(61);
                while let Some(id) = self.receive_next() {
                    self.finish(id);
                }
            }
            let id = self.start(job);
            self.finish(id);
            if self.world.with(|s| s.violation.is_some()) {
                return;
            }
        }
    }

    fn fate(&mut self, index: usize) -> Fate {
        let Some(stop) = self.processes[index].stop else {
            return Fate::Good;
        };
        if stop.done || !self.rng.permille(self.trouble) {
            return Fate::Good;
        }
        if !is_vendor(stop.label) {
            return *self.rng.pick(&[Fate::Unsent, Fate::Lost]);
        }
        let late = self.rng.within(1, 25);
        *self.rng.pick(&[
            Fate::Unsent,
            Fate::Lost,
            Fate::Lost,
            Fate::Vanished,
            Fate::Late(late),
            Fate::Throttled,
            Fate::Broken,
            Fate::BrokenAfter,
        ])
    }

    /// Something happens outside.
    fn happen(&mut self, reach: i64) {
        match self.rng.below(100) {
            0..=9 => {
                let index = self.rng.below(self.bills.len());
                if self.bills.iter().all(|b| b.taken) && !self.rng.permille(200) {
                    return self.hooks();
                }
                self.post(index);
            }
            10..=29 => self.hooks(),
            30..=44 => self.take_up(),
            45..=54 => self.customer(),
            55..=69 => {
                let seconds = self.rng.within(1, reach);
                self.advance(seconds);
            }
            70..=73 => {
                let seconds = *self.rng.pick(&[60, 130, 400, 700, 2000]);
                self.advance(seconds);
            }
            74..=78 => {
                if self
                    .processes
                    .iter()
                    .filter(|p| p.job == Job::Reconcile)
                    .count()
                    < 2
                {
                    self.start(Job::Reconcile);
                }
            }
            79..=86 => self.refund(),
            87..=92 => self.shopkeeper(),
            93 => self.dashboard(),
            94 => self.words(),
            95 => self.strangers(),
            96 => self.new_document(),
            _ => self.queue_trouble(),
        }
    }

    fn hooks(&mut self) {
        let now = self.now();
        let ids: Vec<u32> = self.world.with(|s| {
            s.vendors
                .hooks
                .iter()
                .filter(|h| h.at <= now)
                .map(|h| h.id)
                .collect()
        });
        if ids.is_empty() {
            return;
        }
        // In any sequence; also while an earlier one is still being worked on.
        let id = *self.rng.pick(&ids);
        if self.trouble > 0 && self.rng.permille(100) {
            self.world
                .with(|s| s.note(|| format!("webhook {id} is lost on its way")));
            return self.again(id);
        }
        self.start(Job::Hook(id));
    }

    fn take_up(&mut self) {
        self.receive_next();
    }

    fn queue_trouble(&mut self) {
        if self.trouble == 0 {
            return;
        }
        let count = self.world.with(|s| s.queue.messages.len());
        if count == 0 {
            return;
        }
        let index = self.rng.below(count);
        match self.rng.below(4) {
            // Twice at once, or out of sequence.
            0 | 1 => {
                self.receive(index);
            }
            2 => self.world.with(|s| {
                s.note(|| format!("the queue loses message {index}"));
                s.queue.messages.remove(index);
            }),
            _ => {
                let later = self.rng.within(1, 400) * 1000;
                self.world
                    .with(|s| s.queue.messages[index].visible = now_plus(s, later));
            }
        }
    }

    fn customer(&mut self) {
        let what = self.rng.below(12);
        // Of a bill that went out several times and is paid inside WhatsApp, only the message that was told of is asked about.
        let silent = self.rng.permille(150)
            && self
                .world
                .with(|s| s.vendors.payments.is_empty() && s.vendors.checkouts.is_empty());
        match what {
            0..=5 => {
                let paid = self.sum("captured", silent);
                self.pay(paid);
            }
            // An offer of the gateway's: less is taken, and the bill is paid.
            6 => {
                let paid = Paid {
                    amount: TOTAL - 5000,
                    fee: 0,
                    offer: 5000,
                    status: "captured",
                    silent: false,
                };
                self.pay(paid);
            }
            7 | 8 => {
                let paid = self.sum("failed", false);
                self.pay(paid);
            }
            // Another sum, and the gateway does not say that the bill is paid by it.
            9 => {
                let amount = *self.rng.pick(&[TOTAL - 1000, TOTAL + 1000]);
                self.pay(Self::other_sum(amount));
            }
            // Two devices at once, or the bank changed its mind.
            10 => self.world.with(|s| {
                let now = s.now;
                if let Some(link) = s.vendors.links.iter().position(|l| l.status == "paid") {
                    s.note(|| "the customer pays again".to_owned());
                    s.vendors
                        .pay(now, Through::Link(link), Self::other_sum(TOTAL));
                }
            }),
            _ => self.world.with(|s| {
                let now = s.now;
                if let Some(index) = s.vendors.payments.iter().position(|p| p.status == "failed") {
                    s.note(|| "a failed payment is captured after all".to_owned());
                    s.vendors.capture(now, index);
                }
            }),
        }
    }

    fn refund(&mut self) {
        if !self.asked.is_empty() && self.rng.permille(400) {
            // The till asks again, or two tills ask for the same.
            let index = self.rng.below(self.asked.len());
            let asked = &self.asked[index];
            let job = Job::Refund(asked.key.clone(), asked.id.clone(), asked.ask.clone());
            self.start(job);
            return;
        }
        let captured: Vec<String> = self.world.with(|s| {
            s.vendors
                .payments
                .iter()
                .filter(|p| p.status == "captured" && p.owner.as_ref() == Some(&self.bills[0].key))
                .map(|p| p.id.clone())
                .collect()
        });
        if captured.is_empty() && !self.rng.permille(100) || self.asked.len() >= 6 {
            return;
        }
        let amount = *self.rng.pick(&[
            None,
            Some(TOTAL),
            Some(50_000),
            Some(40_000),
            Some(100),
            Some(50),
        ]);
        let payment = if self.rng.permille(200) && !captured.is_empty() {
            Some(self.rng.pick(&captured).clone())
        } else {
            None
        };
        self.ask_back(amount, payment);
    }

    fn shopkeeper(&mut self) {
        let key = self.bills[0].key.clone();
        let job = match self.rng.below(10) {
            0..=2 => Job::Cancel(key),
            3..=5 => {
                let phone = if self.rng.permille(300) {
                    chatbill_domain::contact::Msisdn::parse("+919812345678".to_owned()).ok()
                } else {
                    None
                };
                Job::Resend(key, phone)
            }
            6 => Job::Fulfil(key, Fulfilment::Processing),
            7 => Job::Fulfil(key, Fulfilment::Shipped),
            _ => {
                let order = self.world.with(|s| s.order(&key));
                let held: Vec<String> = order
                    .map(|o| o.holds.iter().map(|(_, _, id)| id.clone()).collect())
                    .unwrap_or_default();
                if held.is_empty() {
                    return;
                }
                Job::Settle(key, self.rng.pick(&held).clone(), self.rng.permille(500))
            }
        };
        self.start(job);
    }

    fn dashboard(&mut self) {
        let amount = *self.rng.pick(&[10_000, 40_000, TOTAL]);
        let pick = self.rng.below(4);
        self.refund_in_dashboard(amount, pick);
    }

    /// Somebody says that the bill is paid who cannot know; or somebody else's link on the same account has the bill's number.
    fn strangers(&mut self) {
        let raw = vendors::forged("BM345A-12", TOTAL);
        let acme = self.around.tenants.read(&self.bills[0].key.tenant);
        if acme.is_some_and(|shop| shop.gateways.current().verify(raw).is_ok()) {
            self.world
                .with(|s| s.wrong(|| "a forged webhook is believed".to_owned()));
        }
        let number = *self.rng.pick(&["BM345A-12", "BM345A-12-2"]);
        let fails = self.rng.permille(300);
        // Until its document is changed the tenant has one account.
        let second = self.rng.permille(500) && self.has_moved;
        let account = if second {
            vendors::Account::Second
        } else {
            vendors::Account::First
        };
        self.world.with(|s| {
            let now = s.now;
            if let Some(link) = s.vendors.link_of_dashboard(now, number, TOTAL, account) {
                s.note(|| format!("a link of the dashboard with the number {number} is paid"));
                let status = if fails { "failed" } else { "captured" };
                let paid = Paid {
                    status,
                    ..Self::other_sum(TOTAL)
                };
                s.vendors.pay(now, Through::Link(link), paid);
            }
        });
    }

    /// The customer writes to the shop.
    fn words(&mut self) {
        let text = *self.rng.pick(&["STOP", "START", "thank you"]);
        let source = self.provider;
        self.world.with(|s| {
            let now = s.now;
            s.note(|| format!("the customer writes {text}"));
            s.vendors.write(now, source, text);
        });
    }

    /// The tenant's document is changed while its orders are open.
    fn new_document(&mut self) {
        if self.kin.is_empty() {
            return;
        }
        let shop = Arc::clone(self.rng.pick(&self.kin));
        self.world
            .with(|s| s.note(|| format!("the tenant's document is now {}", shop.name)));
        self.around.tenants.put(&shop);
        self.has_moved = true;
    }

    // ---- Quiet days ----------------------------------------------------------------------------------------------------

    /// Nothing breaks any more; everything that lives on does its part until nothing is left to do. Then all of it must be right.
    pub fn calm(&mut self, pays: bool) {
        self.trouble = 0;
        self.deaths = 0;
        self.fault = None;
        self.world.with(|s| {
            s.vendors.moody = 0;
            s.note(|| "quiet days".to_owned());
        });
        let until = self.now() + LIFE;
        while self.now() < until {
            self.finish_all();
            if self.world.with(|s| s.violation.is_some()) {
                return;
            }
            if self.something_to_do(pays) {
                continue;
            }
            match self.next_moment() {
                Some(next) => self.advance_to(next),
                None => break,
            }
        }
        self.finish_all();
        check::end(self);
    }

    fn something_to_do(&mut self, pays: bool) -> bool {
        if let Some(index) = self
            .bills
            .iter()
            .position(|b| b.begun && !b.taken && !b.refused)
        {
            let id = self.post(index);
            self.finish(id);
            self.advance(5);
            return true;
        }
        let now = self.now();
        if let Some(id) = self
            .world
            .with(|s| s.vendors.hooks.iter().find(|h| h.at <= now).map(|h| h.id))
        {
            self.start(Job::Hook(id));
            return true;
        }
        if self.receive_next().is_some() {
            return true;
        }
        if pays {
            let paid = self.sum("captured", false);
            if self.pay(paid) {
                return true;
            }
        }
        if let Some(asked) = self.asked.iter().find(|a| !a.known) {
            let job = Job::Refund(asked.key.clone(), asked.id.clone(), asked.ask.clone());
            let id = self.start(job);
            self.finish(id);
            self.advance(5);
            return true;
        }
        if now >= self.next_run {
            self.next_run = now - now.rem_euclid(RUN) + RUN;
            if self.world.with(|s| {
                s.items
                    .values()
                    .any(|i| i.due.is_some_and(|due| due.get() <= now))
            }) {
                self.start(Job::Reconcile);
                return true;
            }
        }
        false
    }

    /// When something will be to do next.
    fn next_moment(&self) -> Option<i64> {
        self.world.with(|s| {
            let round = |at: i64| at.max(s.now).div_euclid(RUN) * RUN + RUN;
            let due = s
                .items
                .values()
                .filter_map(|i| i.due)
                .map(|due| round(due.get()).max(self.next_run));
            let queued = s.queue.next_at().into_iter();
            let hooks = s.vendors.hooks.iter().map(|h| h.at);
            let late = s.late.iter().map(|(at, _)| *at);
            let refunds = s
                .vendors
                .refunds
                .iter()
                .filter(|r| r.status == "pending")
                .map(|r| r.settles);
            let ends = s
                .vendors
                .links
                .iter()
                .filter(|l| l.status == "created")
                .map(|l| (l.expire_by - s.vendors.ahead) * 1000);
            let next = due
                .chain(queued)
                .chain(hooks)
                .chain(late)
                .chain(refunds)
                .chain(ends)
                .min()?;
            Some(next.max(s.now + 1))
        })
    }
}

fn is_vendor(label: &str) -> bool {
    !label.starts_with("store") && !label.starts_with("queue") && label != "sleep"
}

fn now_plus(state: &State, milliseconds: i64) -> i64 {
    state.now + milliseconds
}
