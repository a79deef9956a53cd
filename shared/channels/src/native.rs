//! Payments made natively inside WhatsApp, as Meta's objects tell of them and the providers who pass these on.
//!
//! Documents: Meta, "Webhooks, payment status" and "Payment gateway integrations", lookup and refund (2026).

use std::collections::BTreeSet;

use chatbill_domain::contact::quotable;
use chatbill_domain::http::CallError;
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Found, PaymentReport, RefundReport, RefundRequest, RefundStatus, Speed,
};
use chatbill_domain::time::Millis;
use serde_json::Value;

use crate::wire::{is, list, text, whole};

/// By what a provider knows a payment. Whatever it is, it must always be the same: a payment that is first known by one id and later by
/// another would be two, and the second would be sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaymentId {
    /// `pg_transaction_id`, which Meta's samples of a success have. What has none yet is not paid yet.
    Gateway,
    /// `id`, the gateway's order, which is all that Kaleyra's sample of a success has.
    Order,
}

impl PaymentId {
    /// The report under this id, and no money without it.
    fn of(self, transaction: &Value, mut report: PaymentReport) -> Option<PaymentReport> {
        match self {
            Self::Order => report.payment_id = text(transaction, "id")?,
            Self::Gateway => {
                let is_named = text(transaction, "pg_transaction_id").is_some();
                if report.status == AttemptStatus::Captured && !is_named {
                    report.status = AttemptStatus::Pending;
                }
            }
        }
        Some(report)
    }
}

/// What a list of payments says about one bill; the error is why it cannot be believed.
pub(crate) fn found(
    payments: &[Value],
    reference: &ReferenceId,
    known_by: PaymentId,
) -> Result<Found, &'static str> {
    let mut found = Found::default();
    for payment in payments {
        if text(payment, "reference_id").as_deref() != Some(reference.as_str()) {
            continue;
        }
        let captured = is(payment, "status", "captured");
        for transaction in list(payment, "transactions") {
            let amount = transaction.get("amount").or_else(|| payment.get("amount"));
            let currency = text(transaction, "currency").or_else(|| text(payment, "currency"));
            let report = amount
                .zip(currency)
                .and_then(|(amount, currency)| {
                    transaction_report(transaction, captured, amount, currency)
                })
                .and_then(|report| known_by.of(transaction, report))
                .ok_or("a transaction cannot be read")?;
            // A refund that cannot be read must not hide the money that came in.
            found.refunds.extend(
                list(transaction, "refunds")
                    .iter()
                    .filter_map(|refund| refund_report(refund, &report.payment_id)),
            );
            found.reports.push(report);
        }
        let told = found
            .reports
            .iter()
            .any(|r| r.status == AttemptStatus::Captured);
        if captured && !told {
            return Err("captured, but without a transaction that has its id");
        }
    }
    Ok(found)
}

/// One transaction as a report. The gateway's payment id tells attempts apart; until there is one, its order id has to.
pub(crate) fn transaction_report(
    transaction: &Value,
    captured: bool,
    amount: &Value,
    currency: String,
) -> Option<PaymentReport> {
    let status = if is(transaction, "status", "success") {
        // A success that the payment itself does not confirm is not money yet.
        if captured {
            AttemptStatus::Captured
        } else {
            AttemptStatus::Pending
        }
    } else if ["failed", "canceled", "cancelled", "voided"]
        .iter()
        .any(|word| is(transaction, "status", word))
    {
        AttemptStatus::Failed
    } else {
        AttemptStatus::Pending
    };
    let error = transaction
        .get("error")
        .filter(|_| status == AttemptStatus::Failed);
    Some(PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status,
        payment_id: text(transaction, "pg_transaction_id").or_else(|| text(transaction, "id"))?,
        amount: paise(amount)?,
        currency,
        method: transaction.get("method").and_then(|m| text(m, "type")),
        error: error
            .and_then(|e| text(e, "reason").or_else(|| text(e, "code")))
            .map(|reason| quotable(&reason)),
        at: time(transaction),
    })
}

/// Every refund of one payment. `None`: the bill has no such payment that succeeded. The error is why the list cannot be believed;
/// a refund overlooked would be made again, so one that cannot be read spoils it all.
pub(crate) fn refunds(
    payments: &[Value],
    reference: &ReferenceId,
    payment_id: &str,
) -> Result<Option<Vec<RefundReport>>, &'static str> {
    let transaction = payments
        .iter()
        .filter(|payment| text(payment, "reference_id").as_deref() == Some(reference.as_str()))
        .flat_map(|payment| list(payment, "transactions"))
        .filter(|transaction| is(transaction, "status", "success"))
        .find(|transaction| {
            ["pg_transaction_id", "id"]
                .iter()
                .any(|name| text(transaction, name).as_deref() == Some(payment_id))
        });
    let Some(transaction) = transaction else {
        return Ok(None);
    };
    list(transaction, "refunds")
        .iter()
        .map(|refund| refund_report(refund, payment_id).ok_or("a refund cannot be read"))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// A provider's call for a refund names the message, not the payment. When the message was paid more than once, nobody can say which
/// payment the money would go back from.
pub(crate) fn is_paid_once(found: &Found) -> Result<(), CallError> {
    let paid: BTreeSet<&str> = found
        .reports
        .iter()
        .filter(|r| r.status == AttemptStatus::Captured)
        .map(|r| r.payment_id.as_str())
        .collect();
    if paid.len() <= 1 {
        return Ok(());
    }
    Err(CallError::Rejected {
        code: "paid_more_than_once".to_owned(),
        reason: "the message was paid more than once, and a refund names only the message; refund this payment at the gateway"
            .to_owned(),
    })
}

/// Which of a payment's refunds is the one asked for, if any.
///
/// Nothing of ours is repeated in it. By its id, once there is one. Before that, one that we know as another is not it, nor is one of
/// another amount, nor one that failed: nothing of that was paid. Of the rest the sums must tell. What is left beyond what others
/// still wait for is ours when it is as much as ours; when it is nothing, and there was a twin before, the list shows the twin.
/// Everything else means that others are not settled either, and then the
/// error says so: asking again later is better than paying perhaps twice.
pub(crate) fn ours(
    request: &RefundRequest,
    listed: Vec<RefundReport>,
) -> Result<Option<RefundReport>, &'static str> {
    if request.gateway_refund_id.is_some() {
        return Ok(listed
            .into_iter()
            .find(|refund| refund.id == request.gateway_refund_id));
    }
    // Of the same amount and payment one is as good as another: those that turned up under no name since then belong to ours whose
    // answers are out, in their sequence. A dashboard's of the same amount cannot be told from them; then ours counts as made, which
    // pays nothing twice.
    let mut unnamed: Vec<&RefundReport> = listed
        .iter()
        .filter(|refund| {
            refund.status != RefundStatus::Failed
                && refund.amount == request.amount
                && refund
                    .id
                    .as_ref()
                    .is_some_and(|id| request.unnamed.contains(id))
        })
        .collect();
    unnamed.sort_by_key(|refund| refund.at);
    if let Some(ours) = unnamed.get(request.ahead) {
        return Ok(Some((*ours).clone()));
    }
    if !unnamed.is_empty() {
        // They belong to those ahead of ours, which is asked for once that is written down.
        return Err(UNSETTLED);
    }
    let is_listed = |id: &String| listed.iter().any(|r| r.id.as_ref() == Some(id));
    let all_listed = request.others.iter().all(is_listed);
    let (others, left): (Vec<RefundReport>, Vec<RefundReport>) = listed
        .into_iter()
        .filter(|refund| refund.status != RefundStatus::Failed)
        .partition(|refund| {
            refund
                .id
                .as_ref()
                .is_some_and(|id| request.others.contains(id))
        });
    let is_alike = |refund: &RefundReport| refund.amount == request.amount;
    // What others have asked for, and no refund that is listed is known to be theirs.
    let waiting = request.before.get().saturating_sub(sum(&others)).max(0);
    let beyond = sum(&left).saturating_sub(waiting);
    let alike = left.into_iter().filter(is_alike);
    // A twin asked for before is the older one, a twin asked for meanwhile the younger.
    let ours = match request.same_amount_at {
        Some(_) => alike.max_by_key(|refund| refund.at),
        None => alike.min_by_key(|refund| refund.at),
    };
    match ours {
        // While two of ours wait for their ids, a third that is listed may be one of them, taken for the dashboard's.
        None if waiting < request.amount.get() || !others.iter().any(is_alike) => Ok(None),
        Some(ours) if beyond >= request.amount.get() => Ok(Some(ours)),
        // One that is known and not listed yet would leave the place of the twin to ours.
        Some(_) if beyond == 0 && request.same_amount_at.is_some() && all_listed => Ok(None),
        _ => Err(UNSETTLED),
    }
}

const UNSETTLED: &str =
    "other refunds of this payment are not settled, so the list does not say which this one is";

fn sum(refunds: &[RefundReport]) -> i64 {
    refunds
        .iter()
        .fold(0, |sum, refund| sum.saturating_add(refund.amount.get()))
}

/// One refund as webhooks and lookups show it. In the refund call's own answer `success` is called `completed`.
pub(crate) fn refund_report(refund: &Value, payment_id: &str) -> Option<RefundReport> {
    Some(RefundReport {
        status: refund_status(refund)?,
        id: Some(text(refund, "id")?),
        name: None,
        payment_id: payment_id.to_owned(),
        amount: paise(refund.get("amount")?)?,
        speed: speed(refund),
        bank_reference: None,
        error: None,
        at: time(refund),
    })
}

pub(crate) fn refund_status(refund: &Value) -> Option<RefundStatus> {
    Some(
        match text(refund, "status")?.to_ascii_lowercase().as_str() {
            "success" | "completed" => RefundStatus::Processed,
            "failed" => RefundStatus::Failed,
            // A word nobody knows is at least not an end.
            _ => RefundStatus::Pending,
        },
    )
}

pub(crate) fn speed(refund: &Value) -> Option<Speed> {
    if is(refund, "speed_processed", "instant") {
        Some(Speed::Instant)
    } else if is(refund, "speed_processed", "normal") {
        Some(Speed::Normal)
    } else {
        None
    }
}

fn time(value: &Value) -> Option<Millis> {
    ["created_timestamp", "updated_timestamp"]
        .iter()
        .find_map(|name| whole(value.get(name)?).filter(|t| *t > 0))
        .map(Millis::from_seconds)
}

/// `{"value": n, "offset": 100}`; any other offset is not paise.
pub(crate) fn paise(amount: &Value) -> Option<Paise> {
    if whole(amount.get("offset")?)? != 100 {
        return None;
    }
    Paise::new(whole(amount.get("value")?)?).ok()
}
