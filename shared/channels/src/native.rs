//! Payments made natively inside WhatsApp, as Meta's objects tell of them and the providers who pass these on.
//!
//! Documents: Meta, "Webhooks, payment status" and "Payment gateway integrations", lookup (2026).

use chatbill_domain::contact::quotable;
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{AttemptStatus, Found, PaymentReport};
use chatbill_domain::time::Millis;
use serde_json::Value;

use crate::wire::{is, list, text, whole};

/// What a list of payments says about one bill; the error is why it cannot be believed.
pub(crate) fn found(payments: &[Value], reference: &ReferenceId) -> Result<Found, &'static str> {
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
                .ok_or("a transaction cannot be read")?;
            found.reports.push(report);
        }
        let told = found
            .reports
            .iter()
            .any(|r| r.status == AttemptStatus::Captured);
        if captured && !told {
            return Err("captured, but without a transaction");
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
    } else if is(transaction, "status", "failed") {
        AttemptStatus::Failed
    } else {
        AttemptStatus::Pending
    };
    let error = transaction
        .get("error")
        .filter(|_| status == AttemptStatus::Failed);
    Some(PaymentReport {
        status,
        payment_id: text(transaction, "pg_transaction_id").or_else(|| text(transaction, "id"))?,
        amount: paise(amount)?,
        currency,
        method: transaction.get("method").and_then(|m| text(m, "type")),
        error: error
            .and_then(|e| text(e, "reason").or_else(|| text(e, "code")))
            .map(|reason| quotable(&reason)),
        at: ["created_timestamp", "updated_timestamp"]
            .iter()
            .find_map(|name| whole(transaction.get(name)?).filter(|t| *t > 0))
            .map(Millis::from_seconds),
    })
}

/// `{"value": n, "offset": 100}`; any other offset is not paise.
pub(crate) fn paise(amount: &Value) -> Option<Paise> {
    if whole(amount.get("offset")?)? != 100 {
        return None;
    }
    Paise::new(whole(amount.get("value")?)?).ok()
}
