//! How fast a sender's messages go out, so that a burst of bills of one shop neither runs into its provider's limit nor takes the
//! function from other shops.
//!
//! Each running copy of the function keeps its own account, because a shared one would cost a write per message. The provider's limit
//! is divided by the number of copies that can run at once (the queue's maximum concurrency), so all together stay below it. Who is
//! not let through is not claimed, not sent and not counted as a try: the queue brings the task again a moment later.
//!
//! What only the provider can know, it says: a throttled answer stops a sender for as long as it asks, and three lost answers in a
//! row stop it for ten seconds, so that a dead provider does not hold the function through its time-outs. One message per customer
//! every 6 seconds (Meta, burst 45) is left to its error 131056 and its own rule of 4^n seconds: an order has a handful of
//! messages, and which customer a task is for is not known before it is claimed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::message::Remedy;
use crate::time::Millis;

/// A turn so near is waited for; a later one is not worth holding the function, milliseconds.
const NEAR: i64 = 250;
/// Lost answers in a row that stop a sender.
const LOST_LIMIT: u32 = 3;
/// For how long, milliseconds.
const LOST_PAUSE: i64 = 10_000;
/// The longest a throttled answer stops a sender, seconds; the message's own retry may wait longer.
const LONGEST_PAUSE: u32 = 300;
/// Senders kept. When there are more, those not heard of for a minute are forgotten.
const MOST_SENDERS: usize = 1024;

/// Whether a sender's next message may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now, or after so many milliseconds (0 for now); the turn is taken.
    In(i64),
    /// Not soon: ask again in this many seconds.
    Later(u32),
}

#[derive(Debug, Clone, Copy)]
struct Sender {
    /// When the next turn is free.
    next: Millis,
    /// When the last of those sent away is back.
    back: Millis,
    paused_until: Millis,
    lost: u32,
}

/// The account of one running copy of the function.
#[derive(Debug)]
pub struct Pace {
    copies: u32,
    senders: Mutex<HashMap<String, Sender>>,
}

impl Pace {
    /// For a function of which at most `copies` run at once.
    #[must_use]
    pub fn new(copies: u32) -> Self {
        Self {
            copies: copies.max(1),
            senders: Mutex::new(HashMap::new()),
        }
    }

    /// Asks for a turn. `rate` is the provider's documented number of messages a second for one sender.
    pub fn turn(&self, sender: &str, rate: Option<u32>, now: Millis) -> Turn {
        self.with(sender, now, |s| {
            if now < s.paused_until {
                return later(s, s.paused_until, self.step(rate), now);
            }
            let Some(step) = self.step(rate) else {
                return Turn::In(0);
            };
            let at = s.next.max(now);
            let wait = at.get().saturating_sub(now.get());
            if wait > NEAR {
                return later(s, at, Some(step), now);
            }
            s.next = at.plus(step);
            Turn::In(wait)
        })
    }

    /// Remembers how a try ended: with this remedy, or well.
    pub fn ended(&self, sender: &str, failure: Option<Remedy>, now: Millis) {
        self.with(sender, now, |s| match failure {
            Some(Remedy::Throttled(seconds)) => {
                let pause = i64::from(seconds.clamp(1, LONGEST_PAUSE));
                s.paused_until = s.paused_until.max(now.plus_seconds(pause));
                s.lost = 0;
            }
            Some(Remedy::Unknown) => {
                s.lost = s.lost.saturating_add(1);
                if s.lost >= LOST_LIMIT {
                    s.paused_until = s.paused_until.max(now.plus(LOST_PAUSE));
                }
            }
            _ => s.lost = 0,
        });
    }

    /// Milliseconds between two messages of one sender. One second may begin with a message of every copy at once, so each copy gives one
    /// message a second up; with more copies than that leaves, each keeps half its share.
    fn step(&self, rate: Option<u32>) -> Option<i64> {
        let (rate, copies) = (i64::from(rate?.max(1)), i64::from(self.copies));
        let kept = rate.saturating_sub(copies);
        let all = copies.saturating_mul(1000);
        if kept.saturating_mul(2) >= rate {
            all.checked_div(kept).map(|ms| ms.saturating_add(1))
        } else {
            all.saturating_mul(2)
                .checked_div(rate)
                .map(|ms| ms.saturating_add(1))
        }
    }

    fn with<T>(&self, sender: &str, now: Millis, act: impl FnOnce(&mut Sender) -> T) -> T {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() >= MOST_SENDERS {
            let old = now.plus(-60_000);
            senders.retain(|_, s| s.next > old || s.paused_until > now);
        }
        act(senders.entry(sender.to_owned()).or_insert(Sender {
            next: now,
            back: now,
            paused_until: Millis::from_seconds(0),
            lost: 0,
        }))
    }
}

/// Those sent away come back one after another, not all at once.
fn later(s: &mut Sender, earliest: Millis, step: Option<i64>, now: Millis) -> Turn {
    s.back = s.back.max(earliest).plus(step.unwrap_or(20));
    let wait = s.back.get().saturating_sub(now.get());
    let seconds = wait.saturating_add(999).checked_div(1000).unwrap_or(1);
    Turn::Later(u32::try_from(seconds.clamp(1, 900)).unwrap_or(900))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "small numbers of a test; an overflow panics here"
    )]

    use super::*;

    const NOW: Millis = Millis::from_seconds(1_795_305_600);

    /// Runs `copies` accounts for ten seconds, each asked as fast as it lets; gives the most that went out within any second.
    fn busiest(copies: u32, rate: u32) -> (usize, usize) {
        let mut sent = Vec::new();
        for _ in 0..copies {
            let pace = Pace::new(copies);
            for ms in 0..10_000 {
                if let Turn::In(wait) = pace.turn("s", Some(rate), NOW.plus(ms)) {
                    sent.push(ms + wait);
                }
            }
        }
        sent.sort_unstable();
        let most = sent
            .iter()
            .map(|from| {
                sent.iter()
                    .filter(|t| (*from..from + 1000).contains(*t))
                    .count()
            })
            .max();
        (most.unwrap(), sent.len() / 10)
    }

    #[test]
    fn all_copies_together_stay_below_the_documented_rate() {
        for copies in [1, 2, 10, 40, 80] {
            let (most, mean) = busiest(copies, 80);
            assert!(most <= 80, "{copies} copies sent {most} in a second");
            assert!(mean >= 30, "{copies} copies sent only {mean} a second");
        }
    }

    #[test]
    fn one_sender_s_burst_does_not_touch_another() {
        let pace = Pace::new(10);
        for _ in 0..1000 {
            pace.turn("burst", Some(80), NOW);
        }
        assert_eq!(pace.turn("calm", Some(80), NOW), Turn::In(0));
        assert!(matches!(pace.turn("burst", Some(80), NOW), Turn::Later(_)));
    }

    #[test]
    fn those_sent_away_come_back_spread() {
        let pace = Pace::new(1);
        let waits: Vec<u32> = (0..400)
            .filter_map(|_| match pace.turn("s", Some(80), NOW) {
                Turn::Later(seconds) => Some(seconds),
                Turn::In(_) => None,
            })
            .collect();
        for second in 1..=4 {
            let back = waits.iter().filter(|w| **w == second).count();
            assert!(back <= 80, "{back} come back in second {second}");
        }
        assert!(*waits.last().unwrap() >= 4);
    }

    #[test]
    fn a_throttled_answer_stops_the_sender_as_long_as_it_asks() {
        let pace = Pace::new(1);
        pace.ended("s", Some(Remedy::Throttled(7)), NOW);
        assert!(matches!(pace.turn("s", None, NOW), Turn::Later(s) if s >= 7));
        assert!(matches!(
            pace.turn("s", None, NOW.plus(6_900)),
            Turn::Later(_)
        ));
        assert_eq!(pace.turn("s", None, NOW.plus(7_000)), Turn::In(0));
        assert_eq!(pace.turn("other", None, NOW), Turn::In(0));
    }

    #[test]
    fn three_lost_answers_in_a_row_stop_the_sender_for_a_while() {
        let pace = Pace::new(1);
        for _ in 0..2 {
            pace.ended("s", Some(Remedy::Unknown), NOW);
        }
        pace.ended("s", None, NOW);
        for _ in 0..2 {
            pace.ended("s", Some(Remedy::Unknown), NOW);
        }
        assert_eq!(pace.turn("s", None, NOW), Turn::In(0));
        pace.ended("s", Some(Remedy::Unknown), NOW);
        assert!(matches!(pace.turn("s", None, NOW), Turn::Later(_)));
        assert_eq!(pace.turn("s", None, NOW.plus(10_000)), Turn::In(0));
    }
}
