//! Shows an order to the shop that posted it, and waits for it to change.

use std::time::Duration;

use serde_json::{Value, json};

use crate::event::{Event, RefundOutcome};
use crate::ids::OrderKey;
use crate::message::{Progress, Report};
use crate::money::{Money, Paise};
use crate::order::{Message, Order};
use crate::payment::PaymentReport;
use crate::ports::{Clock, OrderStore, StoreError};
use crate::refund::Refund;

/// How often the store is asked while waiting.
const PACE: Duration = Duration::from_millis(500);

/// Reads an order; with `wait` seconds, returns as soon as it changes and at the latest then.
///
/// Round trips: 1, and 2 more for each second of waiting.
pub async fn read_order<S: OrderStore, C: Clock>(
    store: &S,
    clock: &C,
    key: &OrderKey,
    wait: u32,
) -> Result<Option<Order>, StoreError> {
    let Some(first) = store.load(key).await? else {
        return Ok(None);
    };
    let deadline = clock.now().plus_seconds(wait.into());
    let mut latest = first;
    let seen = latest.events.len();
    while wait > 0 && latest.events.len() == seen && clock.now() < deadline {
        clock.sleep(PACE).await;
        match store.load(key).await? {
            Some(order) => latest = order,
            None => return Ok(None),
        }
    }
    Ok(Some(latest))
}

/// The order as the API shows it. `brief` leaves out what only `GET` shows.
#[must_use]
pub fn view(order: &Order, brief: bool) -> Value {
    let terms = order.terms();
    let receipt = &terms.receipt_url;
    let money = |amount: Paise| json!(Money::from(amount));
    let mut payment = json!({
        "mode": terms.mode.as_str(),
        "gateway": terms.gateway,
    });
    let mut shown = json!({
        "reference_id": order.key.reference,
        "payment_status": order.payment_status().as_str(),
        "fulfilment_status": order.fulfilment.as_str(),
        "total_amount": money(order.bill().total),
        "currency": "INR",
        "receipt_url": receipt,
        "created_at": order.contents.created_at.rfc3339(),
        "expires_at": order.expires_at().rfc3339(),
        "delivery": delivery(order),
    });
    let Some(object) = shown.as_object_mut() else {
        return shown;
    };
    if let Some(fields) = payment.as_object_mut() {
        if let Some(started) = &order.started {
            let name = if started.link.starts_with("upi:") {
                "upi_intent"
            } else {
                "link"
            };
            fields.insert(name.to_owned(), json!(started.link));
            fields.insert("gateway_id".to_owned(), json!(started.id));
        }
        if let Some((code, detail)) = &order.refusal {
            fields.insert(
                "refusal".to_owned(),
                json!({"code": code, "detail": detail}),
            );
        }
        if let Some((id, at)) = order.payment() {
            fields.insert("payment_id".to_owned(), json!(id));
            fields.insert("captured_at".to_owned(), json!(at.rfc3339()));
            fields.insert("captured".to_owned(), money(order.captured_amount()));
            let paid = order.paid();
            fields.insert("received".to_owned(), money(paid.received));
            // Where the customer paid another sum than the bill's: captured = received - fee + offer.
            for (name, amount) in [("fee", paid.fee), ("offer", paid.offer)] {
                if amount > Paise::ZERO {
                    fields.insert(name.to_owned(), money(amount));
                }
            }
            fields.insert("refundable".to_owned(), money(order.refundable_amount()));
            fields.insert("refunded".to_owned(), money(order.refunded_amount()));
            fields.insert("refunding".to_owned(), money(order.refunding_amount()));
        }
    }
    if order.started.is_some() {
        object.insert("qr_url".to_owned(), json!(format!("{receipt}/qr.png")));
    }
    if !order.holds.is_empty() {
        let holds: Vec<Value> = order
            .holds
            .iter()
            .map(|(hold, at, payment_id)| {
                json!({"reason": hold.as_str(), "since": at.rfc3339(), "payment_id": payment_id})
            })
            .collect();
        object.insert("held".to_owned(), json!(holds));
    }
    if !brief {
        if let Some(fields) = payment.as_object_mut() {
            fields.insert("attempts".to_owned(), attempts(order));
        }
        object.insert(
            "messages".to_owned(),
            order.messages.iter().map(message).collect(),
        );
        object.insert("timeline".to_owned(), timeline(order));
    }
    object.insert("payment".to_owned(), payment);
    shown
}

/// All refunds of an order, with what they add up to.
#[must_use]
pub fn refunds_view(order: &Order) -> Value {
    let refunds: Vec<Value> = order.refunds.list().iter().map(refund_view).collect();
    json!({
        "reference_id": order.key.reference,
        "captured": Money::from(order.captured_amount()),
        "refundable": Money::from(order.refundable_amount()),
        "refunded": Money::from(order.refunded_amount()),
        "refunding": Money::from(order.refunding_amount()),
        "refunds": refunds,
    })
}

/// One refund.
#[must_use]
pub fn refund_view(refund: &Refund) -> Value {
    json!({
        "refund_id": refund.id,
        "gateway_refund_id": refund.gateway_id,
        "payment_id": refund.payment_id,
        "amount": Money::from(refund.amount),
        "status": refund.status(),
        "speed_requested": refund.ask.as_ref().map(|a| a.speed),
        "speed": refund.speed,
        // What stands in the way, while something does; else the shop's own words, which the timeline always has.
        "reason": refund.obstacle().or_else(|| refund.ask.as_ref()?.reason.as_deref()),
        "bank_reference": refund.bank_reference,
        "error": refund.error,
        "attempts": refund.attempts,
        "created_at": refund.since.rfc3339(),
        "completed_at": refund.done_at.map(crate::time::Millis::rfc3339),
    })
}

/// How the bill's latest sending is doing.
fn delivery(order: &Order) -> Value {
    let latest = order
        .messages
        .iter()
        .rev()
        .find(|m| matches!(m.key, crate::message::MessageKey::Invoice(_)));
    json!({
        "channel": order.terms().channel,
        "provider": order.terms().provider,
        "to": order.phone.masked(),
        "status": latest.map_or("queued", |m| m.status.as_str()),
    })
}

fn attempts(order: &Order) -> Value {
    order
        .attempts
        .values()
        .map(|attempt| {
            let r = &attempt.report;
            with_reasons(
                json!({
                    "payment_id": r.payment_id,
                    "status": serde_json::to_value(r.status).unwrap_or_default(),
                    "amount": Money::from(r.amount),
                    "method": r.method,
                    "error": r.error,
                    "at": r.at.unwrap_or(attempt.seen_at).rfc3339(),
                }),
                r,
            )
        })
        .collect()
}

/// Why a payment's amount is another than the bill's, where the gateway says so.
fn with_reasons(mut shown: Value, report: &PaymentReport) -> Value {
    let reasons = [
        ("paid_in_full", report.paid_in_full),
        ("fee", report.fee),
        ("offer", report.offer),
    ];
    if let Some(fields) = shown.as_object_mut() {
        for (name, amount) in reasons {
            if let Some(amount) = amount {
                fields.insert(name.to_owned(), json!(Money::from(amount)));
            }
        }
    }
    shown
}

fn message(m: &Message) -> Value {
    let mut shown = json!({
        "message": m.key,
        "status": m.status.as_str(),
        "attempts": m.attempts,
        "form": m.form,
        "provider_id": m.provider_id,
        "sent_at": m.sent_at.map(crate::time::Millis::rfc3339),
        "next_attempt_at": m.again_at.map(crate::time::Millis::rfc3339),
        "error": m.failure.as_ref().map(|f| json!({"code": f.code, "detail": f.detail})),
    });
    if let (Some(segments), Some(fields)) = (m.segments, shown.as_object_mut()) {
        fields.insert("segments".to_owned(), json!(segments));
    }
    shown
}

/// Every hop with its time, who brought it, and the provider's ids. Phone numbers are masked.
fn timeline(order: &Order) -> Value {
    order
        .events
        .iter()
        .map(|recorded| {
            let mut entry = entry(&recorded.event);
            if let Some(fields) = entry.as_object_mut() {
                fields.insert("at".to_owned(), json!(recorded.at.rfc3339()));
                fields.insert("by".to_owned(), json!(recorded.by));
            }
            entry
        })
        .collect()
}

fn entry(event: &Event) -> Value {
    match event {
        Event::Created => json!({"event": "created"}),
        Event::Started(s) => json!({"event": "payment_started", "gateway_id": s.id}),
        Event::StartRefused { code, detail } => {
            json!({"event": "payment_refused", "code": code, "detail": detail})
        }
        Event::Payment(r) => with_reasons(
            json!({
                "event": "payment",
                "status": serde_json::to_value(r.status).unwrap_or_default(),
                "payment_id": r.payment_id,
                "amount": Money::from(r.amount),
                "currency": r.currency,
                "method": r.method,
                "error": r.error,
            }),
            r,
        ),
        Event::KeptBack { payment_id } => {
            json!({"event": "refund_kept_back", "payment_id": payment_id})
        }
        Event::Hint { payment_id } => {
            json!({"event": "payment_hinted", "payment_id": payment_id})
        }
        Event::Closed { reason } => {
            json!({"event": "link_closed", "reason": serde_json::to_value(reason).unwrap_or_default()})
        }
        Event::Expired => json!({"event": "expired"}),
        Event::Fulfilment { to, description } => {
            json!({"event": "fulfilment", "status": to.as_str(), "description": description})
        }
        Event::Resend {
            number,
            reference,
            to,
            key: _,
        } => json!({
            "event": "resend",
            "number": number,
            "message_reference": reference,
            "to": to.as_ref().map(crate::contact::Msisdn::masked),
        }),
        Event::ResendAnswered { key: _ } => json!({"event": "resend_answered"}),
        Event::Try {
            message,
            attempt,
            form,
            fallback: _,
            sms: _,
        } => {
            json!({"event": "sending", "message": message, "attempt": attempt, "form": form})
        }
        Event::Sent {
            message,
            attempt,
            id,
            segments: _,
        } => {
            json!({"event": "sent", "message": message, "attempt": attempt, "provider_id": id})
        }
        Event::SendFailed {
            message,
            attempt,
            failure,
            again_at,
        } => json!({
            "event": "send_failed",
            "message": message,
            "attempt": attempt,
            "code": failure.code,
            "detail": failure.detail,
            "next_attempt_at": again_at.map(crate::time::Millis::rfc3339),
        }),
        Event::RefundAsked {
            id,
            amount,
            payment_id,
            speed,
            reason,
        } => json!({
            "event": "refund_asked",
            "refund_id": id,
            "amount": amount.map(Money::from),
            "payment_id": payment_id,
            "speed": speed,
            "reason": reason,
        }),
        Event::RefundTried { id, attempt } => {
            json!({"event": "refund_tried", "refund_id": id, "attempt": attempt})
        }
        Event::RefundEnded {
            id,
            outcome,
            error,
            obstacle,
        } => json!({
            "event": match outcome {
                RefundOutcome::Refused => "refund_refused",
                RefundOutcome::Later => "refund_waits",
                RefundOutcome::Unknown => "refund_unknown",
                RefundOutcome::Dismissed => "refund_dismissed",
            },
            "refund_id": id,
            "error": error,
            "reason": obstacle,
        }),
        Event::Refund { id, report } => json!({
            "event": "refund",
            "refund_id": id,
            "status": report.status,
            "gateway_refund_id": report.id,
            "payment_id": report.payment_id,
            "amount": Money::from(report.amount),
            "bank_reference": report.bank_reference,
            "error": report.error,
        }),
        Event::Reminded => json!({"event": "reminded"}),
        Event::Settled { payment_id, accept } => {
            json!({"event": "settled", "payment_id": payment_id, "accepted": accept})
        }
        Event::Skipped { message, why } => {
            json!({"event": "skipped", "message": message, "reason": why})
        }
        Event::Report {
            message,
            attempt,
            report,
        } => match report {
            Report::Progress(progress) => {
                let name = match progress {
                    Progress::Sent => "left_provider",
                    Progress::Delivered => "delivered",
                    Progress::Read => "read",
                };
                json!({"event": name, "message": message, "attempt": attempt})
            }
            Report::Failed(failure) => json!({
                "event": "delivery_failed",
                "message": message,
                "attempt": attempt,
                "code": failure.code,
                "detail": failure.detail,
            }),
        },
    }
}
