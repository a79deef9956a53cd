//! What must hold after every step, and what must hold in the end: section by section the invariants of `docs/architecture.md`.

use chatbill_domain::connector::Wish;
use chatbill_domain::event::Event;
use chatbill_domain::ids::OrderKey;
use chatbill_domain::message::Progress;
use chatbill_domain::message::Report;
use chatbill_domain::money::Paise;
use chatbill_domain::order::{Hold, MessageStatus, Order, PaymentStatus, Stray};
use chatbill_domain::payment::AttemptStatus;
use chatbill_domain::refund::RefundState;
use chatbill_testkit::builders;

use crate::logs::raised;
use crate::run::{Run, TOTAL};
use crate::vendors::{About, Hook, Payment, Refund};
use crate::world::State;

/// What was seen of an order before.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    paid: bool,
    refunded: i64,
}

/// One order, after every write.
pub(crate) fn order(state: &mut State, order: &Order, seen: &mut Seen) {
    let key = &order.key.reference;
    let status = order.payment_status();
    if seen.paid && !status.is_paid() {
        state.wrong(|| format!("{key} was paid and is {}", status.as_str()));
    }
    seen.paid = status.is_paid();
    let refunded = order.refunded_amount().get();
    if refunded < seen.refunded {
        state.wrong(|| format!("{key}: refunded {} and then {refunded}", seen.refunded));
    }
    seen.refunded = refunded;
    if let Some((id, _)) = order.payment() {
        let id = id.to_owned();
        let is_its = |p: &&Payment| {
            p.id == id && p.status == "captured" && p.owner.as_ref() == Some(&order.key)
        };
        let truth = state.vendors.payments.iter().find(is_its).cloned();
        match truth {
            None => state.wrong(|| {
                format!("{key} is paid by {id}, and the gateway never took it for this bill")
            }),
            Some(payment) => {
                let parts = order.paid();
                let (amount, worth) = (parts.received.get(), parts.worth.get());
                let accepted = order.events.iter().any(|e| matches!(&e.event, Event::Settled { payment_id, accept: true } if *payment_id == id))
                    || (amount > TOTAL && order.terms().late_payment == chatbill_domain::tenant::LatePayment::Accept);
                if amount != payment.amount {
                    state.wrong(|| {
                        format!(
                            "{key}: captured {amount}, and the gateway took {}",
                            payment.amount
                        )
                    });
                }
                if worth != order.bill().total.get() && !accepted {
                    state.wrong(|| {
                        format!("{key} of {} is paid by {worth}", order.bill().total.get())
                    });
                }
                if amount + parts.offer.get() != worth + parts.fee.get() {
                    state.wrong(|| format!("{key}: {parts:?} does not add up"));
                }
            }
        }
    }
    refunds(state, order);
    twice(state, order);
    foreign(state, order);
    bounds(state, order);
}

/// Whatever tills ask for, and however often, the order keeps room for news of money.
fn bounds(state: &mut State, order: &Order) {
    let key = &order.key.reference;
    let asked = |test: &dyn Fn(&Event) -> bool| {
        order
            .events
            .iter()
            .filter(|r| r.by.starts_with("pos:") && test(&r.event))
            .count()
    };
    let resends = asked(&|e| matches!(e, Event::Resend { .. }));
    let asks = asked(&|e| !matches!(e, Event::Created | Event::Settled { .. }));
    if resends > MOST_RESENDS {
        state.wrong(|| format!("{key} was sent again {resends} times"));
    }
    if asks > MOST_ASKS {
        state.wrong(|| format!("{key} took {asks} asks of tills"));
    }
}

/// How often a bill is sent again, as `docs/errors.md` says.
const MOST_RESENDS: usize = 20;
/// Beyond so many events an order takes no delivery reports any more.
const ROOM_FOR_MONEY: usize = 600;
/// All asks together.
const MOST_ASKS: usize = 100;

/// Nothing is known of an order but what happened on its own link or in its own messages.
fn foreign(state: &mut State, order: &Order) {
    for recorded in &order.events {
        let Event::Payment(report) = &recorded.event else {
            continue;
        };
        let payment = state
            .vendors
            .payments
            .iter()
            .find(|p| p.id == report.payment_id);
        if payment.is_none_or(|p| p.owner.as_ref() != Some(&order.key)) {
            let (key, id) = (&order.key, &report.payment_id);
            return state.wrong(|| format!("{key} knows of {id}, which is somebody else's"));
        }
    }
}

/// 0 ≤ refunded + refunding ≤ captured, of every payment.
fn refunds(state: &mut State, order: &Order) {
    let key = &order.key.reference;
    for refund in order.refunds.list() {
        let payment = &refund.payment_id;
        let taken = order.taken(payment).unwrap_or(Paise::ZERO);
        let (processed, reserved) = (
            order.refunds.processed(payment),
            order.refunds.reserved(Some(payment)),
        );
        let dashboard = order
            .refunds
            .list()
            .iter()
            .any(|r| r.id.is_none() && r.payment_id == *payment);
        if processed > taken && taken > Paise::ZERO {
            state.wrong(|| {
                format!(
                    "{key}: {} of {payment} went back, and it took {}",
                    processed.get(),
                    taken.get()
                )
            });
        }
        if reserved > taken && !dashboard {
            state.wrong(|| {
                format!(
                    "{key}: {} of {payment} is promised back, and it took {}",
                    reserved.get(),
                    taken.get()
                )
            });
        }
    }
}

/// No event counts twice.
fn twice(state: &mut State, order: &Order) {
    let key = &order.key.reference;
    let mut payments = Vec::new();
    for recorded in &order.events {
        if let Event::Payment(report) = &recorded.event {
            let explained = (report.paid_in_full, report.fee, report.offer);
            let fact = (&report.payment_id, report.status, report.amount, explained);
            if payments.contains(&fact) {
                state.wrong(|| format!("{key}: {fact:?} is stored twice"));
            }
            payments.push(fact);
        }
    }
    let ids: Vec<&String> = order
        .refunds
        .list()
        .iter()
        .filter_map(|r| r.gateway_id.as_ref())
        .collect();
    for (index, id) in ids.iter().enumerate() {
        if ids[..index].contains(id) {
            state.wrong(|| format!("{key}: the gateway's refund {id} counts twice"));
        }
    }
}

/// An acknowledged webhook has its effect.
pub(crate) fn acknowledged(state: &mut State, hook: &Hook) {
    let known = match &hook.about {
        // An attempt that failed moved no money; a link that is paid does not tell of it any more.
        About::Payment(_, _, "failed", _) => true,
        About::Payment(owner, payment, _, amount) => {
            let item = state.items.get(owner);
            item.is_some_and(|item| {
                item.events.iter().any(|r| {
                    matches!(&r.event, Event::Payment(report)
                        if report.payment_id == *payment && report.status == AttemptStatus::Captured && report.amount.get() == *amount)
                })
            })
        }
        About::Message(tag, word) => {
            let item = state
                .items
                .get(&builders::key(hook.tenant, tag.reference.as_str()));
            item.is_some_and(|item| {
                // An order that grew so large keeps its room for news of money.
                let is_large = item.events.len() >= ROOM_FOR_MONEY;
                is_large
                    || item.events.iter().any(|r| match &r.event {
                        Event::Report {
                            message,
                            attempt,
                            report,
                        } if *message == tag.message && *attempt == tag.attempt => match report {
                            Report::Failed(_) => *word == "failed",
                            Report::Progress(Progress::Sent) => *word == "sent",
                            Report::Progress(Progress::Delivered) => *word == "delivered",
                            Report::Progress(Progress::Read) => *word == "read",
                        },
                        _ => false,
                    })
            })
        }
        About::Wrote(text) => {
            let wanted = match text.as_str() {
                "STOP" => Some(Wish::OptOut),
                "START" => Some(Wish::OptIn),
                _ => None,
            };
            // A later word may have come first.
            wanted.is_none() || !state.wishes.is_empty()
        }
        About::Refund(_) | About::Other => true,
    };
    if !known {
        state.wrong(|| format!("the webhook {} was acknowledged and is lost", hook.label));
    }
}

/// When nothing is left to do.
pub(crate) fn end(run: &mut Run) {
    let mut wrong = Vec::new();
    run.world.with(|s| {
        for wanted in &run.bills {
            let Some(order) = s.order(&wanted.key) else {
                if wanted.taken {
                    wrong.push(format!("the bill {} was taken and is lost", wanted.key));
                }
                continue;
            };
            let is_its = |owner: &Option<OrderKey>| owner.as_ref() == Some(&wanted.key);
            let links = s.vendors.links.iter().filter(|l| is_its(&l.owner)).count();
            if links > 1 {
                wrong.push(format!("{}: {links} links", wanted.key));
            }
            let payments: Vec<Payment> = s
                .vendors
                .payments
                .iter()
                .filter(|p| is_its(&p.owner))
                .cloned()
                .collect();
            money(&order, &payments, &mut wrong);
            let refunds: Vec<Refund> = s
                .vendors
                .refunds
                .iter()
                .filter(|r| payments.iter().any(|p| p.id == r.payment))
                .cloned()
                .collect();
            money_back(&order, &payments, &refunds, &run.told, &mut wrong);
            messages(&order, &mut wrong);
            if order.due.is_some() && order.holds.is_empty() {
                wrong.push(format!(
                    "{}: it is still due, and nothing is held",
                    wanted.key
                ));
            }
        }
        let sent_back = s.vendors.refunds.iter().find(|r| {
            let owned = |p: &&Payment| p.id == r.payment && p.owner.is_some();
            (r.token.is_some() || r.native) && !s.vendors.payments.iter().any(|p| owned(&p))
        });
        if let Some(refund) = sent_back {
            wrong.push(format!(
                "{} went back of {}, which is nobody's here",
                refund.amount, refund.payment
            ));
        }
        for asked in &run.asked {
            let known = s
                .order(&asked.key)
                .is_some_and(|o| o.refunds.find(&asked.id).is_some());
            if asked.taken && !known {
                wrong.push(format!("the refund {} was taken and is lost", asked.id));
            }
        }
        if let Some(hook) = s.vendors.hooks.first() {
            wrong.push(format!("the webhook {} was never acknowledged", hook.label));
        }
        if let Some(message) = s.queue.messages.front() {
            wrong.push(format!(
                "{} {} is left on the queue",
                message.task.reference_id, message.task.message
            ));
        }
        if let Some(first) = wrong.into_iter().next() {
            s.wrong(|| first);
        }
    });
}

/// By the terms. Money of another sum waits for a person.
fn goes_back(order: &Order, stray: &Stray) -> bool {
    order.terms().late_payment == chatbill_domain::tenant::LatePayment::Refund
        && matches!(stray.hold, Hold::LatePayment | Hold::DoublePayment)
}

/// The order is paid if and only if it was, and no rupee is forgotten.
fn money(order: &Order, payments: &[Payment], wrong: &mut Vec<String>) {
    let key = &order.key.reference;
    let status = order.payment_status();
    for payment in payments.iter().filter(|p| p.status == "captured") {
        let pays = order.payment().is_some_and(|(id, _)| id == payment.id);
        let stray = order.strays.contains_key(&payment.id);
        if !pays && !stray {
            wrong.push(format!(
                "{key}: {} took {}, and the order does not know",
                payment.id, payment.amount
            ));
        }
        if status.is_open() && payment.worth() == TOTAL {
            wrong.push(format!(
                "{key} is paid by {} and stays {}",
                payment.id,
                status.as_str()
            ));
        }
        if let Some(stray) = order.strays.get(&payment.id)
            && !stray.settled
            && !goes_back(order, stray)
            && !order.holds.iter().any(|(_, _, id)| *id == payment.id)
        {
            wrong.push(format!("{key}: nobody is told of {}", payment.id));
        }
    }
    if status.is_open() && order.started.is_some() && order.refusal.is_none() {
        let odd = payments.iter().any(|p| p.status == "captured");
        if !odd {
            wrong.push(format!("{key} is {} for ever", status.as_str()));
        }
    }
    if status == PaymentStatus::Captured && order.refunded_amount() > Paise::ZERO {
        wrong.push(format!("{key}: captured, and something went back"));
    }
}

/// Refunds are final, and the order and the gateway tell the same of them.
fn money_back(
    order: &Order,
    payments: &[Payment],
    refunds: &[Refund],
    told: &[String],
    wrong: &mut Vec<String>,
) {
    let key = &order.key.reference;
    for refund in refunds {
        let known = order
            .refunds
            .list()
            .iter()
            .find(|r| r.gateway_id.as_deref() == Some(refund.id.as_str()));
        let Some(known) = known else {
            if refund.token.is_some() || told.contains(&refund.id) {
                wrong.push(format!(
                    "{key}: the gateway's refund {} of {} is not known",
                    refund.id, refund.amount
                ));
            }
            continue;
        };
        let state = match refund.status {
            "processed" => RefundState::Processed,
            "failed" => RefundState::Failed,
            _ => RefundState::Pending,
        };
        if known.state != state && (refund.token.is_some() || told.contains(&refund.id)) {
            wrong.push(format!(
                "{key}: {} is {} at the gateway and {} here",
                refund.id,
                refund.status,
                known.state.as_str()
            ));
        }
        if known.amount.get() != refund.amount {
            wrong.push(format!(
                "{key}: {} is of {} and here of {}",
                refund.id,
                refund.amount,
                known.amount.get()
            ));
        }
    }
    for refund in order.refunds.list() {
        if !refund.state.is_final() {
            wrong.push(format!(
                "{key}: the refund {:?} stays {}",
                refund.id,
                refund.state.as_str()
            ));
        }
        if let (Some(id), RefundState::Failed) = (&refund.id, refund.state)
            && !raised("refund_failed", key.as_str(), id)
        {
            wrong.push(format!(
                "{key}: the refund {id} failed, and nobody was told"
            ));
        }
    }
    for payment in payments {
        let stray = order.strays.get(&payment.id).filter(|s| !s.settled);
        let tried = order
            .refunds
            .list()
            .iter()
            .any(|r| r.payment_id == payment.id);
        let odd = order
            .holds
            .iter()
            .any(|(hold, _, id)| *id == payment.id && *hold == Hold::RefundMismatch);
        if stray.is_some_and(|stray| goes_back(order, stray)) && !tried && !odd {
            wrong.push(format!("{key}: {} is not sent back", payment.id));
        }
    }
}

/// Every message arrived, or somebody was told that it did not.
fn messages(order: &Order, wrong: &mut Vec<String>) {
    let key = &order.key.reference;
    for message in &order.messages {
        match message.status {
            MessageStatus::Sent
            | MessageStatus::Delivered
            | MessageStatus::Read
            | MessageStatus::Skipped => {}
            MessageStatus::Failed => {
                if !raised("message_given_up", key.as_str(), &message.key.to_string()) {
                    wrong.push(format!(
                        "{key}: {} was given up, and nobody was told",
                        message.key
                    ));
                }
            }
            status => wrong.push(format!("{key}: {} stays {}", message.key, status.as_str())),
        }
    }
}
