//! Everything there is of a small thing: every stop of every flow, with every way it can go wrong there; and every way in which two
//! functions can run into each other on one order.

use std::sync::Arc;

use chatbill_domain::message::Fulfilment;

use crate::process::Job;
use crate::run::{Fault, How, Run, TOTAL};
use crate::shop::Shop;
use crate::world::Fate;
use crate::{Outcome, judge};

/// One thing that happens, until it has happened: who is cut off tries again, as in life.
#[derive(Debug, Clone, Copy)]
enum Act {
    Post,
    /// The queue hands out what it has.
    Send,
    /// Webhooks arrive until all are acknowledged.
    Hooks,
    Pay(i64),
    /// The customer pays, and no webhook tells.
    PaySilently,
    /// An attempt fails, and is captured after all when the hour is over.
    Fail,
    CaptureLate,
    Cancel,
    Fulfil(Fulfilment),
    Resend,
    Refund(Option<i64>),
    /// A person decides about everything that is held.
    Settle(bool),
    Dashboard(i64),
    Wait(i64),
    Reconcile,
}

use Act::{
    Cancel, CaptureLate, Dashboard, Fail, Fulfil, Hooks, Pay, PaySilently, Post, Reconcile, Refund,
    Resend, Send, Settle, Wait,
};

/// Every flow, with what comes before it.
const FLOWS: &[(&str, &[Act])] = &[
    ("paid", &[Post, Send, Hooks, Pay(TOTAL), Hooks, Send, Hooks]),
    (
        "paid and told by nobody",
        &[Post, Send, PaySilently, Wait(300), Reconcile, Send, Hooks],
    ),
    (
        "refunded in parts",
        &[
            Post,
            Send,
            Pay(TOTAL),
            Hooks,
            Send,
            Refund(Some(40_000)),
            Refund(None),
            Hooks,
            Send,
            Wait(900),
            Reconcile,
            Send,
        ],
    ),
    (
        "refunded here and there",
        &[
            Post,
            Send,
            Pay(TOTAL),
            Hooks,
            Refund(Some(40_000)),
            Dashboard(10_000),
            Hooks,
            Wait(900),
            Reconcile,
            Send,
        ],
    ),
    ("canceled", &[Post, Send, Cancel, Hooks, Send]),
    (
        "canceled too late",
        &[Post, Send, Pay(TOTAL), Cancel, Hooks, Send],
    ),
    (
        "sent again",
        &[Post, Send, Hooks, Resend, Send, Pay(TOTAL), Hooks, Send],
    ),
    (
        "moved on",
        &[
            Post,
            Send,
            Pay(TOTAL),
            Hooks,
            Fulfil(Fulfilment::Processing),
            Fulfil(Fulfilment::Shipped),
            Send,
        ],
    ),
    ("expired", &[Post, Send, Wait(2100), Hooks, Reconcile]),
    (
        "paid when it was over",
        &[
            Post,
            Send,
            Fail,
            Hooks,
            Wait(2400),
            Hooks,
            Reconcile,
            CaptureLate,
            Hooks,
            Wait(400),
            Reconcile,
            Send,
            Settle(true),
            Send,
        ],
    ),
    (
        "paid another sum",
        &[
            Post,
            Send,
            Pay(TOTAL - 1000),
            Hooks,
            Wait(300),
            Reconcile,
            Send,
            Settle(true),
            Send,
            Refund(None),
            Hooks,
        ],
    ),
    (
        "paid another sum, and kept apart",
        &[
            Post,
            Send,
            Pay(TOTAL - 1000),
            Hooks,
            Settle(false),
            Wait(300),
            Reconcile,
            Send,
        ],
    ),
];

/// What can go wrong at a stop: everything kills, and the rest depends on whom the call was to.
const TROUBLES: &[(How, bool)] = &[
    (How::Dies, false),
    (How::Meets(Fate::Unsent), false),
    (How::Meets(Fate::Lost), false),
    (How::Meets(Fate::Vanished), true),
    (How::Meets(Fate::Late(20)), true),
    (How::Meets(Fate::Throttled), true),
    (How::Meets(Fate::Broken), true),
    (How::Meets(Fate::BrokenAfter), true),
];

fn play(run: &mut Run, acts: &[Act]) {
    for act in acts {
        if run.violation().is_some() {
            return;
        }
        match *act {
            Post => {
                for _ in 0..10 {
                    let id = run.post(0);
                    run.finish(id);
                    if run.bills[0].taken {
                        break;
                    }
                    run.advance(5);
                }
            }
            Send => {
                while let Some(id) = run.receive_next() {
                    run.finish(id);
                }
            }
            Hooks => {
                for _ in 0..200 {
                    if !run.one_hook() {
                        break;
                    }
                }
            }
            Pay(amount) => {
                run.pay(Run::other_sum(amount));
            }
            PaySilently => {
                let paid = run.sum("captured", true);
                run.pay(paid);
            }
            Fail => {
                let paid = run.sum("failed", false);
                run.pay(paid);
            }
            CaptureLate => run.capture_failed(),
            Cancel => insist(run, |run| Job::Cancel(run.bills[0].key.clone())),
            Fulfil(to) => insist(run, |run| Job::Fulfil(run.bills[0].key.clone(), to)),
            Resend => insist(run, |run| Job::Resend(run.bills[0].key.clone(), None)),
            Refund(amount) => {
                let id = run.ask_back(amount, None);
                run.finish(id);
                run.ask_until_known();
            }
            Settle(accept) => {
                for payment in run.held() {
                    insist(run, |run| {
                        Job::Settle(run.bills[0].key.clone(), payment.clone(), accept)
                    });
                }
            }
            Dashboard(amount) => run.refund_in_dashboard(amount, 0),
            Wait(seconds) => run.advance(seconds),
            Reconcile => {
                let id = run.start(Job::Reconcile);
                run.finish(id);
            }
        }
    }
}

fn insist(run: &mut Run, job: impl Fn(&Run) -> Job) {
    for _ in 0..10 {
        let id = run.start(job(run));
        run.finish(id);
        if run.heard {
            return;
        }
        run.advance(5);
    }
}

/// A run in which one thing goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    flow: usize,
    shop: usize,
    fault: Option<Fault>,
}

impl Case {
    /// Its name, which replays it: `flow.shop`, or `flow.shop.stop.trouble`.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { flow, shop, fault } = self;
        let fault = fault.map(|f| {
            let how = TROUBLES
                .iter()
                .position(|(how, _)| *how == f.how)
                .unwrap_or(0);
            format!(".{}.{how}", f.at)
        });
        format!("flow.{flow}.{shop}{}", fault.unwrap_or_default())
    }

    /// In words.
    #[must_use]
    pub fn words(&self, shops: &[Arc<Shop>]) -> String {
        let fault = self.fault.map_or_else(
            || "undisturbed".to_owned(),
            |f| format!("stop {}: {:?}", f.at, f.how),
        );
        format!(
            "{}; shop {}; {fault}",
            FLOWS[self.flow].0, shops[self.shop].name
        )
    }

    fn run(&self, shops: &[Arc<Shop>], traced: bool) -> (Outcome, Vec<bool>) {
        let mut run = Run::new(1, &shops[self.shop], traced);
        run.fault = self.fault;
        run.listing = self.fault.is_none();
        let mut stops = Vec::new();
        let outcome = judge(run, |run| {
            play(run, FLOWS[self.flow].1);
            stops = std::mem::take(&mut run.passed);
            run.listing = false;
            run.calm(false);
        });
        (outcome, stops)
    }
}

/// Every stop of every flow, with everything that can go wrong there. `tell` gets each case that ended badly; gives how many there were.
pub fn flows(
    shops: &[Arc<Shop>],
    part: (usize, usize),
    mut tell: impl FnMut(String, String, Outcome),
) -> usize {
    let mut count = 0;
    for flow in 0..FLOWS.len() {
        for shop in 0..shops.len() {
            if (flow * shops.len() + shop) % part.1 != part.0 {
                continue;
            }
            let whole = Case {
                flow,
                shop,
                fault: None,
            };
            let (outcome, stops) = whole.run(shops, false);
            count += 1;
            if outcome.violation.is_some() {
                tell(whole.name(), whole.words(shops), outcome);
                continue;
            }
            for (at, vendor) in stops.iter().enumerate() {
                for (how, only_vendor) in TROUBLES {
                    if *only_vendor && !vendor {
                        continue;
                    }
                    let case = Case {
                        flow,
                        shop,
                        fault: Some(Fault { at, how: *how }),
                    };
                    let (outcome, _) = case.run(shops, false);
                    count += 1;
                    if outcome.violation.is_some() {
                        tell(case.name(), case.words(shops), outcome);
                    }
                }
            }
        }
    }
    count
}

// ---- Two at once -------------------------------------------------------------------------------------------------------

/// What one of two does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Post,
    Cancel,
    Resend,
    Fulfil,
    Reconcile,
    /// The first message of the queue, whoever else has it.
    Send,
    /// The webhook at this place.
    Hook(usize),
    /// This refund of so much; the same number is the same refund.
    Refund(usize, Option<i64>),
    /// The first held payment.
    Settle(bool),
}

type Pair = (&'static str, &'static [Act], Part, Part);

/// Before, and the two.
const PAIRS: &[Pair] = &[
    ("two tills post", &[], Part::Post, Part::Post),
    (
        "posted again while it is sent",
        &[Post],
        Part::Post,
        Part::Send,
    ),
    ("sent twice at once", &[Post], Part::Send, Part::Send),
    (
        "canceled while it is sent",
        &[Post],
        Part::Send,
        Part::Cancel,
    ),
    (
        "sent again while it is sent",
        &[Post],
        Part::Send,
        Part::Resend,
    ),
    (
        "reconciled while it is sent",
        &[Post, Wait(200)],
        Part::Send,
        Part::Reconcile,
    ),
    (
        "sent again by two",
        &[Post, Send],
        Part::Resend,
        Part::Resend,
    ),
    ("canceled by two", &[Post, Send], Part::Cancel, Part::Cancel),
    (
        "canceled and sent again",
        &[Post, Send],
        Part::Cancel,
        Part::Resend,
    ),
    (
        "two webhooks of one payment",
        &[Post, Send, Pay(TOTAL)],
        Part::Hook(0),
        Part::Hook(1),
    ),
    (
        "one webhook twice at once",
        &[Post, Send, Hooks, Pay(TOTAL)],
        Part::Hook(0),
        Part::Hook(0),
    ),
    (
        "paid and canceled",
        &[Post, Send, Hooks, Pay(TOTAL)],
        Part::Hook(0),
        Part::Cancel,
    ),
    (
        "paid and sent again",
        &[Post, Send, Hooks, Pay(TOTAL)],
        Part::Hook(0),
        Part::Resend,
    ),
    (
        "paid and moved on",
        &[Post, Send, Hooks, Pay(TOTAL)],
        Part::Hook(0),
        Part::Fulfil,
    ),
    (
        "paid and posted again",
        &[Post, Send, Hooks, Pay(TOTAL)],
        Part::Hook(0),
        Part::Post,
    ),
    (
        "paid and reconciled",
        &[Post, Send, Hooks, Pay(TOTAL), Wait(300)],
        Part::Hook(0),
        Part::Reconcile,
    ),
    (
        "paid and expired",
        &[
            Post,
            Send,
            Hooks,
            Wait(1900),
            Reconcile,
            Pay(TOTAL),
            Wait(600),
        ],
        Part::Hook(0),
        Part::Reconcile,
    ),
    (
        "two refunds that do not both fit",
        &[Post, Send, Pay(TOTAL), Hooks],
        Part::Refund(1, Some(50_000)),
        Part::Refund(2, Some(50_000)),
    ),
    (
        "two refunds of all that is left",
        &[Post, Send, Pay(TOTAL), Hooks],
        Part::Refund(1, None),
        Part::Refund(2, None),
    ),
    (
        "one refund asked for twice",
        &[Post, Send, Pay(TOTAL), Hooks],
        Part::Refund(1, Some(50_000)),
        Part::Refund(1, Some(50_000)),
    ),
    (
        "one name for two refunds",
        &[Post, Send, Pay(TOTAL), Hooks],
        Part::Refund(1, Some(50_000)),
        Part::Refund(1, Some(100)),
    ),
    (
        "refunded while the customer is told",
        &[Post, Send, Hooks, Pay(TOTAL), Hooks],
        Part::Refund(1, None),
        Part::Send,
    ),
    (
        "refunded and reconciled",
        &[Post, Send, Pay(TOTAL), Hooks, Send, Wait(300)],
        Part::Refund(1, None),
        Part::Reconcile,
    ),
    (
        "refunded here and in the dashboard",
        &[
            Post,
            Send,
            Hooks,
            Pay(TOTAL),
            Hooks,
            Send,
            Hooks,
            Dashboard(40_000),
        ],
        Part::Refund(1, Some(50_000)),
        Part::Hook(0),
    ),
    (
        "a refund's webhook and the till's question",
        &[
            Post,
            Send,
            Hooks,
            Pay(TOTAL),
            Hooks,
            Send,
            Hooks,
            Refund(Some(40_000)),
            Wait(900),
        ],
        Part::Hook(0),
        Part::Reconcile,
    ),
    (
        "settled both ways",
        &[Post, Send, Pay(TOTAL - 1000), Hooks],
        Part::Settle(true),
        Part::Settle(false),
    ),
    (
        "settled and paid back",
        &[Post, Send, Pay(TOTAL - 1000), Hooks],
        Part::Settle(true),
        Part::Refund(1, None),
    ),
    (
        "settled and reconciled",
        &[Post, Send, Pay(TOTAL - 1000), Hooks, Wait(300)],
        Part::Settle(true),
        Part::Reconcile,
    ),
    (
        "late money, reconciled by two",
        &[
            Post,
            Send,
            Fail,
            Hooks,
            Wait(2400),
            Hooks,
            Reconcile,
            CaptureLate,
            Hooks,
            Wait(300),
        ],
        Part::Reconcile,
        Part::Reconcile,
    ),
];

/// Interleavings looked at of one pair and shop; none has more but `reconcile` with itself.
const MOST: usize = 4000;

fn begin(run: &mut Run, part: Part) -> u32 {
    let key = run.bills[0].key.clone();
    match part {
        Part::Post => run.post(0),
        Part::Cancel => run.start(Job::Cancel(key)),
        Part::Resend => run.start(Job::Resend(key, None)),
        Part::Fulfil => run.start(Job::Fulfil(key, Fulfilment::Processing)),
        Part::Reconcile => run.start(Job::Reconcile),
        Part::Send => run.receive(0).unwrap_or(0),
        Part::Hook(at) => run.hook_at(at),
        Part::Refund(name, amount) => run.ask_back_as(name, amount),
        Part::Settle(accept) => match run.held().first() {
            Some(payment) => run.start(Job::Settle(key, payment.clone(), accept)),
            None => 0,
        },
    }
}

/// One interleaving: at each choice the first or the second goes on. Gives the choices that were made.
fn interleave(
    pair: usize,
    shop: &Arc<Shop>,
    choices: &[bool],
    traced: bool,
) -> (Outcome, Vec<bool>) {
    let (_, before, one, two) = PAIRS[pair];
    let mut made = Vec::new();
    let outcome = judge(Run::new(1, shop, traced), |run| {
        play(run, before);
        let ids = [begin(run, one), begin(run, two)];
        for id in ids {
            run.run_to_next_effect(id);
        }
        loop {
            let alive = ids.map(|id| run.is_alive(id));
            let second = match alive {
                [false, false] => break,
                [true, false] => false,
                [false, true] => true,
                [true, true] => {
                    let choice = choices.get(made.len()).copied().unwrap_or(false);
                    made.push(choice);
                    choice
                }
            };
            run.through_effect(ids[usize::from(second)]);
        }
        run.calm(false);
    });
    (outcome, made)
}

/// Every interleaving of every pair; as [`flows`].
pub fn pairs(
    shops: &[Arc<Shop>],
    part: (usize, usize),
    mut tell: impl FnMut(String, String, Outcome),
) -> usize {
    let mut count = 0;
    for (pair, (name, ..)) in PAIRS.iter().enumerate() {
        for (index, shop) in shops.iter().enumerate() {
            if (pair * shops.len() + index) % part.1 != part.0 {
                continue;
            }
            let mut choices: Vec<bool> = Vec::new();
            for _ in 0..MOST {
                let (outcome, mut made) = interleave(pair, shop, &choices, false);
                count += 1;
                if outcome.violation.is_some() {
                    let bits: String = made.iter().map(|b| if *b { '1' } else { '0' }).collect();
                    let words = format!("{name}; shop {}", shop.name);
                    tell(format!("pair.{pair}.{index}.{bits}"), words, outcome);
                }
                // The next one in sequence: the last choice that can still be made otherwise.
                while made.last() == Some(&true) {
                    made.pop();
                }
                let Some(last) = made.last_mut() else { break };
                *last = true;
                choices = made;
            }
        }
    }
    count
}

/// The run of this name, as [`flows`] and [`pairs`] gave it.
#[must_use]
pub fn replay(name: &str, shops: &[Arc<Shop>]) -> Option<Outcome> {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |at: usize| parts.get(at).and_then(|n| n.parse::<usize>().ok());
    let shop = number(2).filter(|shop| *shop < shops.len())?;
    match *parts.first()? {
        "flow" => {
            let flow = number(1).filter(|flow| *flow < FLOWS.len())?;
            let fault = match (number(3), number(4)) {
                (Some(at), Some(how)) => Some(Fault {
                    at,
                    how: TROUBLES.get(how)?.0,
                }),
                _ => None,
            };
            Some(Case { flow, shop, fault }.run(shops, true).0)
        }
        "pair" => {
            let pair = number(1).filter(|pair| *pair < PAIRS.len())?;
            let choices: Vec<bool> = parts.get(3)?.chars().map(|c| c == '1').collect();
            Some(interleave(pair, &shops[shop], &choices, true).0)
        }
        _ => None,
    }
}
