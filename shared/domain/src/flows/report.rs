//! The books of one day: every bill a shop took on it, and what they add up to.
//!
//! A day's bills come from the day index and are read in batches; no more of them are held at once than one answer can carry. A larger day
//! is read in parts, each with a ledger of its own; the ledgers of the parts add up to that of the day.
//!
//! The ledger counts everything twice, by ways that meet only here: what an order says of itself, and what its gateway reported, event by
//! event. Where the two disagree, or a sum does not come out, the ledger says so by name. It never bends a number to fit.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::event::Event;
use crate::ids::{OrderKey, ReferenceId, TenantId};
use crate::money::{Money, Paise};
use crate::order::{Order, PaymentStatus};
use crate::payment::{AttemptStatus, Parts};
use crate::ports::{DAY_SHARDS, DayIndex, MOST_LOADED, StoreError};
use crate::refund::{Refund, RefundState};
use crate::time::{Day, Millis};

/// How much one answer may carry.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bills.
    pub bills: usize,
    /// Bytes of their lines, as they are sent.
    pub bytes: usize,
}

/// Where the next part of a day begins. Its text is `<shard>.<reference>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    shard: u8,
    after: ReferenceId,
}

impl Cursor {
    /// Reads what its text is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (shard, after) = text.split_once('.')?;
        let shard = (0..DAY_SHARDS).find(|known| shard == known.to_string())?;
        let after = ReferenceId::parse(after).ok()?;
        Some(Self { shard, after })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.shard, self.after)
    }
}

/// A part of a day, or all of it.
#[derive(Debug)]
pub struct Report {
    /// A line for each bill, as the caller writes them.
    pub lines: Vec<String>,
    /// What they add up to.
    pub ledger: Ledger,
    /// Where the next part begins; `None` at the end of the day.
    pub next: Option<Cursor>,
}

/// Reads a day's bills from `from` on, as many as there is room for, and writes each with `write`.
///
/// Round trips: one for each shard of the index and each further hundred bills of one, and one for each hundred bills.
pub async fn report<S: DayIndex>(
    store: &S,
    tenant: &TenantId,
    day: Day,
    from: Option<&Cursor>,
    room: Room,
    mut write: impl FnMut(&Row) -> String,
) -> Result<Report, StoreError> {
    let mut report = Report {
        lines: Vec::new(),
        ledger: Ledger::default(),
        next: None,
    };
    let mut bytes: usize = 0;
    let mut last = from.cloned();
    for shard in from.map_or(0, |cursor| cursor.shard)..DAY_SHARDS {
        let mut after = from
            .filter(|cursor| cursor.shard == shard)
            .map(|cursor| cursor.after.clone());
        loop {
            let limit = u32::try_from(MOST_LOADED).unwrap_or(u32::MAX);
            let page = store.day(tenant, day, shard, after.as_ref(), limit).await?;
            let mut orders = store.load_all(&page.keys).await?.into_iter().peekable();
            for key in page.keys {
                if report.lines.len() >= room.bills || bytes >= room.bytes {
                    // Behind the last bill that was written, which may be of the shard before.
                    report.next = last;
                    report.finish(tenant, day);
                    return Ok(report);
                }
                match orders.next_if(|order| order.key == key) {
                    Some(order) => {
                        let row = Row::of(&order);
                        report.ledger.add(&row);
                        let line = write(&row);
                        bytes = bytes.saturating_add(line.len());
                        report.lines.push(line);
                    }
                    // A bill that was counted once must not be gone in silence.
                    None => report.ledger.miss(&key),
                }
                last = Some(Cursor {
                    shard,
                    after: key.reference.clone(),
                });
                after = Some(key.reference);
            }
            if !page.more {
                break;
            }
        }
    }
    report.finish(tenant, day);
    Ok(report)
}

impl Report {
    /// Balances the ledger, and says aloud when it does not.
    fn finish(&mut self, tenant: &TenantId, day: Day) {
        self.ledger.balance();
        for problem in &self.ledger.problems {
            tracing::error!(
                event = "ledger_unbalanced",
                tenant_id = %tenant,
                "the books of {day} do not balance: {problem}"
            );
        }
    }
}

/// One bill in the books. Nothing in it names the customer.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its number.
    pub reference: ReferenceId,
    /// When it was taken.
    pub created_at: Millis,
    /// The gateway it is paid at.
    pub gateway: String,
    /// The channel the customer is told on.
    pub channel: String,
    /// Where the money is.
    pub status: PaymentStatus,
    /// What the bill says.
    pub total: Paise,
    /// What pays it.
    pub captured: Paise,
    /// What the customer paid for it: `captured + fee - offer`.
    pub received: Paise,
    /// The gateway's fee in it, which the customer bore.
    pub fee: Paise,
    /// What an offer of the gateway took off.
    pub offer: Paise,
    /// Of that, gone back.
    pub refunded: Paise,
    /// Of that, on its way back.
    pub refunding: Paise,
    /// The gateway's id of the link or transaction.
    pub gateway_id: Option<String>,
    /// The gateway's id of the payment.
    pub payment_id: Option<String>,
    /// How it was paid.
    pub method: Option<String>,
    /// When it was paid.
    pub captured_at: Option<Millis>,
    /// Money that goes back, of this payment and of others.
    pub refunds: Vec<Refund>,
    /// Captured money that does not pay the bill.
    pub beside: Vec<Beside>,
    /// Why a person must look.
    pub held: Vec<&'static str>,
    /// What in this order contradicts itself.
    pub problem: Option<String>,
}

/// Money beside the bill: it came twice, late, or as another sum.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The gateway's id of the payment.
    pub payment_id: String,
    /// How much the customer paid.
    pub amount: Paise,
    /// The gateway's fee in it, which the customer bore.
    pub fee: Paise,
    /// ISO 4217 code; only INR counts in the ledger.
    pub currency: String,
    /// What is wrong with it.
    pub reason: &'static str,
    /// A person took care of it, or the terms say that it stays.
    pub settled: bool,
    /// Gone back.
    pub refunded: Paise,
    /// On its way back.
    pub refunding: Paise,
}

impl Row {
    /// The line of an order.
    #[must_use]
    pub fn of(order: &Order) -> Self {
        let payment = order.payment();
        let paying = payment.and_then(|(id, _)| order.attempts.get(id));
        let beside = order.strays.iter().map(|(id, stray)| {
            let refunded = order.refunds.processed(id);
            let reserved = order.refunds.reserved(Some(id));
            Beside {
                payment_id: id.clone(),
                amount: stray.report.amount,
                fee: order.parts(id).map_or(Paise::ZERO, |parts| parts.fee),
                currency: stray.report.currency.clone(),
                reason: stray.hold.as_str(),
                settled: stray.settled,
                refunded,
                refunding: reserved.checked_sub(refunded).unwrap_or(Paise::ZERO),
            }
        });
        let Parts {
            worth,
            received,
            fee,
            offer,
        } = order.paid();
        let mut row = Self {
            reference: order.key.reference.clone(),
            created_at: order.contents.created_at,
            gateway: order.terms().gateway.clone(),
            channel: order.terms().channel.clone(),
            status: order.payment_status(),
            total: order.bill().total,
            captured: worth,
            received,
            fee,
            offer,
            refunded: order.refunded_amount(),
            refunding: order.refunding_amount(),
            gateway_id: order.started.as_ref().map(|started| started.id.clone()),
            payment_id: payment.map(|(id, _)| id.to_owned()),
            method: paying.and_then(|attempt| attempt.report.method.clone()),
            captured_at: payment.map(|(_, at)| at),
            refunds: order.refunds.list().to_vec(),
            beside: beside.collect(),
            held: order
                .holds
                .iter()
                .map(|(hold, _, _)| hold.as_str())
                .collect(),
            problem: None,
        };
        row.problem = row.contradiction(order);
        row
    }

    /// What the gateway reported, payment by payment and without regard to what the order made of it, against what the order says it
    /// has: each payment in one place, with a sum that was reported of it.
    fn contradiction(&self, order: &Order) -> Option<String> {
        let mut reported: BTreeMap<&str, Vec<Paise>> = BTreeMap::new();
        for recorded in &order.events {
            if let Event::Payment(report) = &recorded.event
                && report.status == AttemptStatus::Captured
                && report.currency == "INR"
            {
                let sums = reported.entry(&report.payment_id).or_default();
                sums.push(report.amount);
            }
        }
        let beside = self.beside.iter().filter(|b| b.currency == "INR");
        let paying = self.payment_id.as_deref().map(|id| (id, self.received));
        for (id, amount) in beside
            .map(|b| (b.payment_id.as_str(), b.amount))
            .chain(paying)
        {
            match reported.remove(id) {
                None => return Some(format!("{id} is counted twice, or was never reported")),
                Some(sums) if !sums.contains(&amount) => {
                    let amount = amount.get();
                    return Some(format!("{id} has {amount} paise that were never reported"));
                }
                Some(_) => {}
            }
        }
        if let Some(id) = reported.keys().next() {
            return Some(format!("{id} was captured and is nowhere in the order"));
        }
        let unpaid = !self.status.is_paid() && self.received != Paise::ZERO;
        let refunds = self
            .refunds
            .iter()
            .filter(|r| r.state != RefundState::Failed);
        let stranger = refunds
            .clone()
            .find(|r| order.taken(&r.payment_id).is_none() && !self.knows(&r.payment_id));
        let over = self.over_refunded();
        if unpaid {
            Some("it has money and is not paid".to_owned())
        } else if stranger.is_some() {
            Some("a refund of a payment it does not have".to_owned())
        } else if over {
            Some("more went back than was taken".to_owned())
        } else {
            None
        }
    }

    fn knows(&self, payment_id: &str) -> bool {
        self.beside.iter().any(|b| b.payment_id == payment_id)
    }

    fn over_refunded(&self) -> bool {
        let over = |taken: Paise, back: Paise, on_its_way: Paise| {
            back.checked_add(on_its_way).is_none_or(|all| all > taken)
        };
        over(self.received, self.refunded, self.refunding)
            || self
                .beside
                .iter()
                .any(|b| over(b.amount, b.refunded, b.refunding))
    }

    /// The line as the API shows it.
    #[must_use]
    pub fn view(&self) -> Value {
        let money = |amount: Paise| json!(Money::from(amount));
        let refunds: Vec<Value> = self
            .refunds
            .iter()
            .map(|refund| {
                json!({
                    "refund_id": refund.id,
                    "gateway_refund_id": refund.gateway_id,
                    "payment_id": refund.payment_id,
                    "amount": money(refund.amount),
                    "status": refund.status(),
                    "bank_reference": refund.bank_reference,
                    "completed_at": refund.done_at.map(Millis::rfc3339),
                })
            })
            .collect();
        let beside: Vec<Value> = self
            .beside
            .iter()
            .map(|beside| {
                json!({
                    "payment_id": beside.payment_id,
                    "amount": money(beside.amount),
                    "fee": money(beside.fee),
                    "currency": beside.currency,
                    "reason": beside.reason,
                    "settled": beside.settled,
                    "refunded": money(beside.refunded),
                    "refunding": money(beside.refunding),
                })
            })
            .collect();
        json!({
            "reference_id": self.reference,
            "created_at": self.created_at.rfc3339(),
            "gateway": self.gateway,
            "channel": self.channel,
            "payment_status": self.status.as_str(),
            "total_amount": money(self.total),
            "captured": money(self.captured),
            "received": money(self.received),
            "fee": money(self.fee),
            "offer": money(self.offer),
            "refunded": money(self.refunded),
            "refunding": money(self.refunding),
            "gateway_id": self.gateway_id,
            "payment_id": self.payment_id,
            "method": self.method,
            "captured_at": self.captured_at.map(Millis::rfc3339),
            "refunds": refunds,
            "other_payments": beside,
            "held": self.held,
            "problem": self.problem,
        })
    }
}

/// How many, and how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// How much, in paise. Wide enough that no day can fill it.
    pub paise: i128,
}

impl Tally {
    fn add(&mut self, amount: i128) {
        self.count = self.count.saturating_add(1);
        self.paise = self.paise.saturating_add(amount);
    }
}

/// What some bills add up to. Amounts in paise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Bills taken.
    pub billed: Tally,
    /// Bills that are paid, at what the bill says.
    pub paid: Tally,
    /// Bills that can still be paid.
    pub open: Tally,
    /// Bills that were not paid in time.
    pub expired: Tally,
    /// Bills called off.
    pub canceled: Tally,
    /// What paid the bills.
    pub captured: Tally,
    /// What the customers paid for it.
    pub received: Tally,
    /// The gateways' fees in it, which the customers bore.
    pub fees: Tally,
    /// What offers of the gateways took off.
    pub offers: Tally,
    /// What the shop accepted above a bill.
    pub excess: Tally,
    /// What the shop accepted below a bill.
    pub short: Tally,
    /// Of what paid the bills, gone back.
    pub refunded: Tally,
    /// Of what paid the bills, on its way back.
    pub refunding: Tally,
    /// Money beside bills: it came twice, late, or as another sum.
    pub beside: Tally,
    /// Of that, gone back.
    pub beside_refunded: Tally,
    /// Of that, on its way back.
    pub beside_refunding: Tally,
    /// Of that, left and waiting for a person.
    pub held: Tally,
    /// Of that, left and settled: a person took care of it, or the terms say that it stays.
    pub settled: Tally,
    /// Money beside bills in another currency. It is in no sum.
    pub foreign: u64,
}

impl Sums {
    fn add(&mut self, row: &Row) {
        let total = wide(row.total);
        self.billed.add(total);
        match row.status {
            PaymentStatus::Pending | PaymentStatus::Failed => self.open.add(total),
            PaymentStatus::Expired => self.expired.add(total),
            PaymentStatus::Canceled => self.canceled.add(total),
            PaymentStatus::Captured
            | PaymentStatus::PartiallyRefunded
            | PaymentStatus::Refunded => self.paid.add(total),
        }
        if row.captured != Paise::ZERO || row.received != Paise::ZERO {
            self.received.add(wide(row.received));
            add_if_any(&mut self.fees, wide(row.fee));
            add_if_any(&mut self.offers, wide(row.offer));
            let captured = wide(row.captured);
            self.captured.add(captured);
            add_if_any(&mut self.excess, captured.saturating_sub(total));
            add_if_any(&mut self.short, total.saturating_sub(captured));
        }
        add_if_any(&mut self.refunded, wide(row.refunded));
        add_if_any(&mut self.refunding, wide(row.refunding));
        for beside in &row.beside {
            if beside.currency != "INR" {
                self.foreign = self.foreign.saturating_add(1);
                continue;
            }
            self.beside.add(wide(beside.amount));
            add_if_any(&mut self.beside_refunded, wide(beside.refunded));
            add_if_any(&mut self.beside_refunding, wide(beside.refunding));
            let left = wide(beside.amount)
                .saturating_sub(wide(beside.refunded))
                .saturating_sub(wide(beside.refunding));
            let place = if beside.settled {
                &mut self.settled
            } else {
                &mut self.held
            };
            add_if_any(place, left);
        }
    }

    /// What stays with the shop of what paid its bills: what came, without the gateways' fees and what went back.
    #[must_use]
    pub fn kept(&self) -> i128 {
        self.received
            .paise
            .saturating_sub(self.fees.paise)
            .saturating_sub(self.refunded.paise)
    }

    /// The sums that must come out, with what is wrong where they do not.
    fn faults(&self) -> impl Iterator<Item = String> {
        let all = |parts: &[&Tally]| {
            parts
                .iter()
                .fold(0_i128, |sum, part| sum.saturating_add(part.paise))
        };
        let states = [&self.paid, &self.open, &self.expired, &self.canceled];
        let bills = states
            .iter()
            .fold(0_u64, |sum, part| sum.saturating_add(part.count));
        let rest = [
            &self.beside_refunded,
            &self.beside_refunding,
            &self.held,
            &self.settled,
        ];
        [
            (
                "billed = paid + open + expired + canceled",
                self.billed.paise,
                all(&states),
            ),
            (
                "bills = paid + open + expired + canceled",
                self.billed.count.into(),
                bills.into(),
            ),
            (
                "captured + short = paid + excess",
                all(&[&self.captured, &self.short]),
                all(&[&self.paid, &self.excess]),
            ),
            (
                "received + offers = captured + fees",
                all(&[&self.received, &self.offers]),
                all(&[&self.captured, &self.fees]),
            ),
            (
                "other payments = refunded + refunding + held + settled of them",
                self.beside.paise,
                all(&rest),
            ),
        ]
        .into_iter()
        .filter(|(_, left, right)| left != right)
        .map(|(what, left, right)| format!("{what}: {left} is not {right}"))
    }

    /// As the API shows them.
    #[must_use]
    pub fn view(&self) -> Value {
        let tally = |tally: &Tally| json!({"count": tally.count, "amount": amount(tally.paise)});
        json!({
            "billed": tally(&self.billed),
            "paid": tally(&self.paid),
            "open": tally(&self.open),
            "expired": tally(&self.expired),
            "canceled": tally(&self.canceled),
            "captured": tally(&self.captured),
            "received": tally(&self.received),
            "fees": tally(&self.fees),
            "offers": tally(&self.offers),
            "excess": tally(&self.excess),
            "short": tally(&self.short),
            "refunded": tally(&self.refunded),
            "refunding": tally(&self.refunding),
            "kept": amount(self.kept()),
            "other_payments": {
                "received": tally(&self.beside),
                "refunded": tally(&self.beside_refunded),
                "refunding": tally(&self.beside_refunding),
                "held": tally(&self.held),
                "settled": tally(&self.settled),
                "in_other_currencies": self.foreign,
            },
        })
    }
}

fn add_if_any(tally: &mut Tally, amount: i128) {
    if amount > 0 {
        tally.add(amount);
    }
}

fn wide(amount: Paise) -> i128 {
    amount.get().into()
}

/// Money that may be less than nothing: more can have gone back than was taken, and that is then a problem with a name.
fn amount(paise: i128) -> Value {
    json!({"value": i64::try_from(paise).unwrap_or(i64::MAX), "offset": 100})
}

/// What the bills add up to, by gateway and channel and in all.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    groups: BTreeMap<(String, String), Sums>,
    total: Sums,
    problems: Vec<String>,
}

impl Ledger {
    /// Adds a bill.
    pub fn add(&mut self, row: &Row) {
        let group = (row.gateway.clone(), row.channel.clone());
        self.groups.entry(group).or_default().add(row);
        self.total.add(row);
        if let Some(problem) = &row.problem {
            self.problems.push(format!("{}: {problem}", row.reference));
        }
    }

    fn miss(&mut self, key: &OrderKey) {
        let problem = format!(
            "{}: it is in the day's index and not in the table",
            key.reference
        );
        self.problems.push(problem);
    }

    /// Checks that the sums come out.
    pub fn balance(&mut self) {
        let mut problems: Vec<String> = self.total.faults().collect();
        for ((gateway, channel), sums) in &self.groups {
            problems.extend(
                sums.faults()
                    .map(|fault| format!("{gateway} over {channel}: {fault}")),
            );
        }
        self.problems.append(&mut problems);
    }

    /// In all.
    #[must_use]
    pub fn total(&self) -> &Sums {
        &self.total
    }

    /// Everything that does not balance.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// As the API shows it.
    #[must_use]
    pub fn view(&self) -> Value {
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|((gateway, channel), sums)| {
                json!({"gateway": gateway, "channel": channel, "sums": sums.view()})
            })
            .collect();
        json!({
            "balanced": self.problems.is_empty(),
            "problems": self.problems,
            "total": self.total.view(),
            "groups": groups,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            reference: ReferenceId::parse("A-1").unwrap(),
            created_at: Millis::new(0),
            gateway: "razorpay".to_owned(),
            channel: "whatsapp".to_owned(),
            status: PaymentStatus::Captured,
            total: Paise::new(85_000).unwrap(),
            captured: Paise::new(85_000).unwrap(),
            received: Paise::new(85_000).unwrap(),
            fee: Paise::ZERO,
            offer: Paise::ZERO,
            refunded: Paise::ZERO,
            refunding: Paise::ZERO,
            gateway_id: None,
            payment_id: Some("pay_1".to_owned()),
            method: None,
            captured_at: None,
            refunds: Vec::new(),
            beside: Vec::new(),
            held: Vec::new(),
            problem: None,
        }
    }

    fn problems(rows: &[Row]) -> Vec<String> {
        let mut ledger = Ledger::default();
        rows.iter().for_each(|row| ledger.add(row));
        ledger.balance();
        ledger.problems().to_vec()
    }

    #[test]
    fn a_paid_bill_without_money_and_money_on_an_open_bill_do_not_balance() {
        assert_eq!(problems(&[row()]), [""; 0]);
        let mut without = row();
        without.captured = Paise::ZERO;
        without.received = Paise::ZERO;
        let sum = "captured + short = paid + excess: 0 is not 85000";
        assert_eq!(
            problems(&[without]),
            [sum.to_owned(), format!("razorpay over whatsapp: {sum}")]
        );
        let mut open = row();
        open.status = PaymentStatus::Pending;
        assert_eq!(problems(&[open]).len(), 2);
    }

    #[test]
    fn fees_and_offers_are_what_money_and_bill_differ_by() {
        let paise = |paise| Paise::new(paise).unwrap();
        let mut with_fee = row();
        with_fee.received = paise(86_003);
        let sum = "received + offers = captured + fees: 86003 is not 85000";
        assert_eq!(problems(std::slice::from_ref(&with_fee))[0], sum);
        with_fee.fee = paise(1_003);
        let mut with_offer = row();
        with_offer.received = paise(80_000);
        with_offer.offer = paise(5_000);
        assert_eq!(problems(&[with_fee.clone(), with_offer.clone()]), [""; 0]);
        let mut ledger = Ledger::default();
        ledger.add(&with_fee);
        ledger.add(&with_offer);
        let sums = ledger.total();
        assert_eq!(
            (sums.captured.paise, sums.received.paise, sums.kept()),
            (170_000, 166_003, 165_000)
        );
    }

    #[test]
    fn more_back_than_came_beside_a_bill_does_not_balance() {
        let mut row = row();
        row.beside.push(Beside {
            payment_id: "pay_2".to_owned(),
            amount: Paise::new(100).unwrap(),
            fee: Paise::ZERO,
            currency: "INR".to_owned(),
            reason: "double_payment",
            settled: false,
            refunded: Paise::new(101).unwrap(),
            refunding: Paise::ZERO,
        });
        let found = problems(&[row]);
        assert!(found[0].ends_with("100 is not 101"), "{found:?}");
    }

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        for text in ["0.A-1", "3..a", "2.x.y.z"] {
            assert_eq!(Cursor::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "A-1", "4.A-1", "00.A-1", "-1.A", "1.", "1.a b", "1."] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
