//! Money that goes back: what was asked for, what the gateway did, and that both together never exceed what was taken.
//!
//! An ask is an event like any other, and events have one sequence. So whether an ask fits what is left of its payment is decided here,
//! in that sequence, and two shops' tills asking at once cannot both get the last rupee: the second ask is void, whoever wrote it.
//! Only an ask that is not void is ever taken to a gateway.

use crate::ids::OrderKey;
use crate::money::Paise;
use crate::payment::{RefundReport, RefundStatus, Speed};
use crate::signature::sha256;
use crate::time::Millis;

/// Refunds one order keeps track of. More would outgrow its item; a shop that needs more has another problem.
pub const MOST_REFUNDS: usize = 50;

/// Letters of a refund's token; none easily mistaken for another.
const ALPHABET: [u8; 32] = *b"abcdefghijkmnpqrstuvwxyz23456789";

/// What makes a refund one at the gateway: twenty letters and digits that only this refund of this order has, the same each time.
#[must_use]
pub fn token(key: &OrderKey, refund_id: &str) -> String {
    let hash = sha256(format!("refund:{key}:{refund_id}").as_bytes());
    hash.iter()
        .take(20)
        .filter_map(|byte| ALPHABET.get(usize::from(byte & 31)))
        .map(|byte| char::from(*byte))
        .collect()
}

/// The name of a refund of a whole payment that was asked for without one: the same for the same payment. `number` counts those before
/// it that failed.
#[must_use]
pub fn whole_name(key: &OrderKey, payment_id: &str, number: usize) -> String {
    let text = format!("whole:{key}\n{payment_id}\n{number}");
    format!("rf-{}", short_hex(&sha256(text.as_bytes())))
}

/// The name of a refund that an `Idempotency-Key` stands for.
#[must_use]
pub fn header_name(key: &OrderKey, header: &str) -> String {
    format!(
        "rf-{}",
        short_hex(&sha256(format!("{key}\n{header}").as_bytes()))
    )
}

fn short_hex(hash: &[u8; 32]) -> String {
    hex::encode(hash.get(..10).unwrap_or_default())
}

/// Where a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundState {
    /// Reserved; the gateway is being asked, or we crashed.
    Asking,
    /// The gateway could not take it now and will be asked again.
    Waiting,
    /// The gateway's answer was lost: it is asked what it did before anything else.
    Unknown,
    /// The gateway took it.
    Pending,
    /// The money went back.
    Processed,
    /// It will not happen; the money stays.
    Failed,
}

impl RefundState {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asking | Self::Waiting => "queued",
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Processed => "processed",
            Self::Failed => "failed",
        }
    }

    /// Nothing more is expected.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Processed | Self::Failed)
    }
}

/// What was asked for, word for word: the same name with other words is a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// `None`: all that is left.
    pub amount: Option<Paise>,
    /// `None`: the payment that pays the order.
    pub payment_id: Option<String>,
    /// How fast.
    pub speed: Speed,
    /// Why.
    pub reason: Option<String>,
}

/// One refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The shop's name of it; `None` when it was made in the gateway's dashboard.
    pub id: Option<String>,
    /// What was asked; `None` as above.
    pub ask: Option<Ask>,
    /// The gateway's id.
    pub gateway_id: Option<String>,
    /// The payment.
    pub payment_id: String,
    /// How much.
    pub amount: Paise,
    /// How fast it is, as far as known.
    pub speed: Option<Speed>,
    /// Where it is.
    pub state: RefundState,
    /// Times the gateway was asked.
    pub attempts: u32,
    /// When it was last asked.
    pub tried_at: Millis,
    /// When it was first heard of.
    pub since: Millis,
    /// When it became final.
    pub done_at: Option<Millis>,
    /// For the customer's question at the bank.
    pub bank_reference: Option<String>,
    /// Why it failed or waits: the gateway's code or words.
    pub error: Option<String>,
    /// Which one of those that went back, from 1; names the message that tells of it.
    pub number: Option<u32>,
    /// What the merchant has to put right at the gateway before it takes it.
    pub obstacle: Option<String>,
    /// The gateway's id was concluded from the amount alone, because the gateway repeats no name.
    guessed: bool,
}

impl Refund {
    /// The money is away or on its way: it cannot be promised twice.
    #[must_use]
    pub const fn counts(&self) -> bool {
        !matches!(self.state, RefundState::Failed)
    }

    /// What stands in its way, while something does.
    #[must_use]
    pub fn obstacle(&self) -> Option<&str> {
        match self.state {
            RefundState::Asking | RefundState::Waiting => self.obstacle.as_deref(),
            _ => None,
        }
    }

    /// The word in the API. One that the gateway takes as soon as the merchant has put something right there is on its way.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self.obstacle() {
            Some(_) => RefundState::Pending.as_str(),
            None => self.state.as_str(),
        }
    }
}

/// Why an ask is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Void {
    /// Nothing was paid, or not by this payment.
    NotPaid,
    /// More than is left; this is left.
    Exceeds(Paise),
    /// The order has had [`MOST_REFUNDS`].
    TooMany,
}

/// All refunds of an order.
#[derive(Debug, Clone, Default)]
pub struct Refunds {
    list: Vec<Refund>,
    void: Vec<(String, Ask, Void)>,
}

impl Refunds {
    /// In the sequence they were first heard of.
    #[must_use]
    pub fn list(&self) -> &[Refund] {
        &self.list
    }

    /// One by the shop's name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Refund> {
        self.list.iter().find(|r| r.id.as_deref() == Some(id))
    }

    /// A void ask by the shop's name.
    #[must_use]
    pub fn voided(&self, id: &str) -> Option<(&Ask, Void)> {
        self.void
            .iter()
            .find(|(name, _, _)| name == id)
            .map(|(_, ask, void)| (ask, *void))
    }

    /// Sum of what is away or on its way of one payment, or of all.
    #[must_use]
    pub fn reserved(&self, payment_id: Option<&str>) -> Paise {
        sum(self
            .list
            .iter()
            .filter(|r| r.counts() && payment_id.is_none_or(|id| r.payment_id == id)))
    }

    /// Sum of what went back of one payment.
    #[must_use]
    pub fn processed(&self, payment_id: &str) -> Paise {
        let done = |r: &&Refund| r.state == RefundState::Processed && r.payment_id == payment_id;
        sum(self.list.iter().filter(done))
    }

    /// Takes an ask. `captured` is what `payment_id` took.
    pub(crate) fn ask(&mut self, id: &str, ask: &Ask, payment: Option<(&str, Paise)>, at: Millis) {
        if self.find(id).is_some() || self.voided(id).is_some() {
            return;
        }
        let Some((payment_id, captured)) = payment else {
            self.void.push((id.to_owned(), ask.clone(), Void::NotPaid));
            return;
        };
        let left = captured
            .checked_sub(self.reserved(Some(payment_id)))
            .unwrap_or(Paise::ZERO);
        let amount = ask.amount.unwrap_or(left);
        let void = if self.list.len() >= MOST_REFUNDS {
            Some(Void::TooMany)
        } else if amount > left || amount == Paise::ZERO {
            Some(Void::Exceeds(left))
        } else {
            None
        };
        if let Some(void) = void {
            self.void.push((id.to_owned(), ask.clone(), void));
            return;
        }
        self.list.push(Refund {
            id: Some(id.to_owned()),
            ask: Some(ask.clone()),
            gateway_id: None,
            payment_id: payment_id.to_owned(),
            amount,
            speed: None,
            state: RefundState::Asking,
            attempts: 1,
            tried_at: at,
            since: at,
            done_at: None,
            bank_reference: None,
            error: None,
            number: None,
            obstacle: None,
            guessed: false,
        });
    }

    /// The gateway is asked once more.
    pub(crate) fn tried(&mut self, id: &str, attempt: u32, at: Millis) {
        if let Some(r) = self.find_mut(id)
            && attempt > r.attempts
            && !r.state.is_final()
            && r.state != RefundState::Pending
        {
            r.attempts = attempt;
            r.tried_at = at;
            r.state = RefundState::Asking;
        }
    }

    /// How an ask ended that the gateway did not take: refused for good, not now, or nobody knows.
    pub(crate) fn ended(
        &mut self,
        id: &str,
        state: RefundState,
        error: &str,
        obstacle: Option<&str>,
        at: Millis,
    ) {
        // A webhook may have told the truth meanwhile.
        if let Some(r) = self.find_mut(id)
            && r.state == RefundState::Asking
        {
            r.state = state;
            r.error = Some(error.to_owned());
            r.obstacle = obstacle.map(str::to_owned);
            if state.is_final() {
                r.done_at = Some(at);
            }
        }
    }

    /// A person found out that it never happened, in whatever state we left it.
    pub(crate) fn dismiss(&mut self, id: &str, error: &str, at: Millis) {
        if let Some(r) = self.find_mut(id)
            && !r.state.is_final()
        {
            r.state = RefundState::Failed;
            r.error = Some(error.to_owned());
            r.done_at = Some(at);
        }
    }

    /// Takes a report, ours or a dashboard's. `own` is the shop's name when it is the answer to our own call. The refund's
    /// number when this is the news that it went back.
    pub(crate) fn report(
        &mut self,
        own: Option<&str>,
        report: &RefundReport,
        token: impl Fn(&str) -> String,
        at: Millis,
    ) -> Option<u32> {
        self.undo_guess(own, report);
        let known = own.filter(|own| self.find(own).is_some());
        let before = known.and_then(|_| self.take_stranger(report));
        if let (Some(own), Some(before)) = (own, before)
            && let Some(r) = self.find_mut(own)
        {
            // Its webhook was faster than the answer to our call, and did not name it.
            r.gateway_id = before.gateway_id;
            r.state = before.state;
            r.done_at = before.done_at;
            r.bank_reference = before.bank_reference;
            r.number = before.number;
        }
        let guess = self.place(own, report, token).or_else(|| {
            let guess = self.only_candidate(own, report)?;
            self.list.get_mut(guess)?.guessed = true;
            Some(guess)
        });
        let index = guess.unwrap_or_else(|| {
            self.list.push(Refund {
                id: own.map(str::to_owned),
                ask: None,
                gateway_id: None,
                payment_id: report.payment_id.clone(),
                amount: report.amount,
                speed: None,
                state: RefundState::Pending,
                attempts: 0,
                tried_at: at,
                since: at,
                done_at: None,
                bank_reference: None,
                error: None,
                number: None,
                obstacle: None,
                guessed: false,
            });
            self.list.len().saturating_sub(1)
        });
        let done = self.list.iter().filter_map(|r| r.number).max();
        let r = self.list.get_mut(index)?;
        let refused = r.gateway_id.is_none();
        let id = report.id.clone().or_else(|| report.name.clone());
        r.gateway_id = r.gateway_id.take().or(id);
        r.speed = report.speed.or(r.speed);
        r.bank_reference = report.bank_reference.clone().or(r.bank_reference.take());
        // By rank: a late "pending" takes nothing back; money that went back after all beats a failure.
        let next = match report.status {
            // A refusal we believed, and the gateway took it after all.
            RefundStatus::Pending if r.state == RefundState::Failed && refused => {
                RefundState::Pending
            }
            RefundStatus::Pending if r.state.is_final() => return None,
            RefundStatus::Pending => RefundState::Pending,
            RefundStatus::Failed if r.state == RefundState::Processed => return None,
            RefundStatus::Failed => RefundState::Failed,
            RefundStatus::Processed => RefundState::Processed,
        };
        r.amount = report.amount;
        r.error = report.error.clone();
        if next.is_final() && r.state != next {
            r.done_at = Some(report.at.unwrap_or(at));
        }
        r.state = next;
        if next == RefundState::Processed && r.number.is_none() {
            r.number = Some(done.unwrap_or(0).saturating_add(1));
            return r.number;
        }
        None
    }

    /// Our own call's answer names another refund than the one that was taken for ours by its amount: that one is the dashboard's.
    fn undo_guess(&mut self, own: Option<&str>, report: &RefundReport) {
        let Some((own, id)) = own.zip(report.id.as_ref()) else {
            return;
        };
        let Some(r) = self.find_mut(own) else {
            return;
        };
        if !r.guessed || r.gateway_id.is_none() || r.gateway_id.as_ref() == Some(id) {
            return;
        }
        let stranger = Refund {
            id: None,
            ask: None,
            attempts: 0,
            guessed: false,
            obstacle: None,
            ..r.clone()
        };
        r.gateway_id = None;
        r.guessed = false;
        r.state = RefundState::Asking;
        r.done_at = None;
        r.bank_reference = None;
        r.number = None;
        self.list.push(stranger);
    }

    /// A refund that was taken for a dashboard's and turns out to be the one this report is about.
    fn take_stranger(&mut self, report: &RefundReport) -> Option<Refund> {
        let id = report.id.as_ref()?;
        let index = self
            .list
            .iter()
            .position(|r| r.id.is_none() && r.gateway_id.as_ref() == Some(id))?;
        Some(self.list.remove(index))
    }

    /// Which refund a report is about: by our own call, by the gateway's id, or by the name the gateway repeats.
    fn place(
        &self,
        own: Option<&str>,
        report: &RefundReport,
        token: impl Fn(&str) -> String,
    ) -> Option<usize> {
        let by = |test: &dyn Fn(&Refund) -> bool| self.list.iter().position(test);
        let named = |r: &Refund, name: &str| {
            r.id.as_deref()
                .is_some_and(|id| id == name || token(id) == name)
        };
        if let Some(id) = &report.id
            && let Some(index) = by(&|r| r.gateway_id.as_ref() == Some(id))
        {
            return Some(index);
        }
        if let Some(own) = own {
            return by(&|r| r.id.as_deref() == Some(own));
        }
        // A name of nobody's is somebody else's refund.
        let name = report.name.as_ref()?;
        by(&|r| named(r, name) || (report.id.is_none() && r.gateway_id.as_ref() == Some(name)))
    }

    /// When the gateway repeats no name: the only one of ours that a report can be about.
    fn only_candidate(&self, own: Option<&str>, report: &RefundReport) -> Option<usize> {
        if own.is_some() || report.name.is_some() {
            return None;
        }
        let mut candidates = self.list.iter().enumerate().filter(|(_, r)| {
            r.id.is_some()
                && r.gateway_id.is_none()
                && !r.state.is_final()
                && r.payment_id == report.payment_id
                && r.amount == report.amount
        });
        match (candidates.next(), candidates.next()) {
            (Some((index, _)), None) => Some(index),
            _ => None,
        }
    }

    fn find_mut(&mut self, id: &str) -> Option<&mut Refund> {
        self.list.iter_mut().find(|r| r.id.as_deref() == Some(id))
    }

    /// The gateway's ids of refunds that are nobody's, are of this one's amount, and were first heard of after this one was asked for.
    #[must_use]
    pub fn unnamed_since(&self, refund: &Refund) -> Vec<String> {
        self.list
            .iter()
            .skip_while(|r| r.id != refund.id)
            .filter(|r| {
                r.id.is_none()
                    && r.counts()
                    && r.payment_id == refund.payment_id
                    && r.amount == refund.amount
            })
            .filter_map(|r| r.gateway_id.clone())
            .collect()
    }

    /// How many of the same amount of the same payment stand before this one whose answers are out, so that each may be one that the
    /// gateway lists.
    #[must_use]
    pub fn ahead(&self, refund: &Refund) -> usize {
        self.list
            .iter()
            .take_while(|r| r.id != refund.id)
            .filter(|r| {
                r.id.is_some()
                    && r.gateway_id.is_none()
                    && matches!(r.state, RefundState::Asking | RefundState::Unknown)
                    && r.payment_id == refund.payment_id
                    && r.amount == refund.amount
            })
            .count()
    }

    /// When the same amount of the same payment was last asked for before this one; PayU refuses a twin within five minutes.
    #[must_use]
    pub fn twin_before(&self, refund: &Refund) -> Option<Millis> {
        self.list
            .iter()
            .take_while(|r| r.id != refund.id)
            .filter(|r| {
                r.counts() && r.payment_id == refund.payment_id && r.amount == refund.amount
            })
            .map(|r| r.tried_at)
            .max()
    }
}

fn sum<'a>(refunds: impl Iterator<Item = &'a Refund>) -> Paise {
    refunds.fold(Paise::ZERO, |sum, r| {
        sum.checked_add(r.amount).unwrap_or(sum)
    })
}
