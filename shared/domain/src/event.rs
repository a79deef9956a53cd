//! What can happen to an order. An order is its bill and a list of these, in the sequence they were stored.

use serde::{Deserialize, Serialize};

use crate::contact::Msisdn;
use crate::ids::ReferenceId;
use crate::message::{Form, Fulfilment, MessageKey, Report, SendFailure};
use crate::money::Paise;
use crate::order::SEND_BACK_PREFIX;
use crate::payment::{
    AttemptStatus, Closed, PaymentReport, RefundReport, RefundStatus, Speed, Started,
};
use crate::signature::sha256;
use crate::time::Millis;

/// One fact. Field names are one letter on the wire because every write to an order is paid by its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "snake_case")]
pub enum Event {
    /// The bill was taken. The first event of every order.
    Created,
    /// The gateway made a link or an intent.
    Started(Started),
    /// The gateway refused to; the same bill posted again tries anew.
    StartRefused {
        /// The gateway's code.
        #[serde(rename = "c")]
        code: String,
        /// The gateway's words.
        #[serde(rename = "t")]
        detail: String,
    },
    /// A report about an attempt to pay.
    Payment(PaymentReport),
    /// A gateway spoke of a payment before the order was there, or before its link was known. It is no money: it makes us ask about
    /// our own link soon.
    Hint {
        /// The payment that was spoken of.
        #[serde(rename = "p")]
        payment_id: String,
    },
    /// The gateway closed its link.
    Closed {
        /// Why.
        #[serde(rename = "r")]
        reason: Closed,
    },
    /// Our own clock ran out.
    Expired,
    /// The shop changed the fulfilment.
    Fulfilment {
        /// The new state.
        #[serde(rename = "f")]
        to: Fulfilment,
        /// Shown to the customer.
        #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// The shop asked to send the bill again.
    Resend {
        /// Which sending this is; the first one was 1.
        #[serde(rename = "n")]
        number: u32,
        /// The reference of this sending at the messaging provider.
        #[serde(rename = "r")]
        reference: ReferenceId,
        /// A corrected number, used from now on.
        #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
        to: Option<Msisdn>,
        /// What names the request, see [`request_name`]; the same request again sends nothing more.
        #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// The shop asked to send the bill again while it was on its way to that number: nothing more was sent.
    ResendAnswered {
        /// As in a re-send.
        #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// A try to send a message begins. Written before the provider is called, so that a crash leaves a trace.
    Try {
        /// Which message.
        #[serde(rename = "m")]
        message: MessageKey,
        /// Which try, from 1.
        #[serde(rename = "n")]
        attempt: u32,
        /// In which form.
        #[serde(rename = "f")]
        form: Form,
        /// A template stands by should the 24-hour window turn out closed.
        #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
        fallback: bool,
        /// An SMS stands by should WhatsApp definitely fail.
        #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
        sms: bool,
    },
    /// The provider took it.
    Sent {
        /// Which message.
        #[serde(rename = "m")]
        message: MessageKey,
        /// Which try.
        #[serde(rename = "n")]
        attempt: u32,
        /// The provider's id of it.
        #[serde(rename = "i")]
        id: String,
        /// In how many parts an SMS went out.
        #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
        segments: Option<u8>,
    },
    /// The try failed.
    SendFailed {
        /// Which message.
        #[serde(rename = "m")]
        message: MessageKey,
        /// Which try.
        #[serde(rename = "n")]
        attempt: u32,
        /// Why.
        #[serde(rename = "x")]
        failure: SendFailure,
        /// When it is tried again; `None` when it is given up (or goes out as a template instead).
        #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
        again_at: Option<Millis>,
    },
    /// It is not needed any more.
    Skipped {
        /// Which message.
        #[serde(rename = "m")]
        message: MessageKey,
        /// Why.
        #[serde(rename = "w")]
        why: String,
    },
    /// The shop, or the terms, want money to go back. Whether it fits is decided by the sequence of these; see [`crate::refund`].
    RefundAsked {
        /// The shop's name of it.
        #[serde(rename = "n")]
        id: String,
        /// How much; all that is left when it is not said.
        #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
        amount: Option<Paise>,
        /// From which payment; the one that pays the order when it is not said.
        #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
        payment_id: Option<String>,
        /// How fast.
        #[serde(rename = "v")]
        speed: Speed,
        /// Why.
        #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The gateway is asked for a refund once more. Written before, so that a crash leaves a trace.
    RefundTried {
        /// Which refund.
        #[serde(rename = "n")]
        id: String,
        /// Which try; asking was the first.
        #[serde(rename = "k")]
        attempt: u32,
    },
    /// The gateway did not take it.
    RefundEnded {
        /// Which refund.
        #[serde(rename = "n")]
        id: String,
        /// How it stands then.
        #[serde(rename = "s")]
        outcome: RefundOutcome,
        /// The gateway's code and words.
        #[serde(rename = "x")]
        error: String,
        /// What the merchant has to put right before it can succeed: [`crate::http::Obstacle`]. A text, so that the word of a later
        /// build does not make the order unreadable here.
        #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
        obstacle: Option<String>,
    },
    /// A report about a refund.
    Refund {
        /// Which one, when it is the answer to our own call.
        #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// What it says.
        #[serde(rename = "r")]
        report: RefundReport,
    },
    /// The terms would send this payment back, but our own link, intent or message knows nothing of it: a person decides.
    KeptBack {
        /// Which payment.
        #[serde(rename = "p")]
        payment_id: String,
    },
    /// A person was reminded that something is held.
    Reminded,
    /// A person decided that held money pays the order, or is taken care of elsewhere.
    Settled {
        /// Which payment.
        #[serde(rename = "p")]
        payment_id: String,
        /// It pays the order.
        #[serde(rename = "a")]
        accept: bool,
    },
    /// The provider reports about a message it took.
    Report {
        /// Which message.
        #[serde(rename = "m")]
        message: MessageKey,
        /// Which try.
        #[serde(rename = "n")]
        attempt: u32,
        /// What it says.
        #[serde(rename = "r")]
        report: Report,
    },
}

impl Event {
    /// It tells of money or settles what becomes of it, so an order always has room for it. An attempt that took nothing does not.
    #[must_use]
    pub fn is_about_money(&self) -> bool {
        match self {
            Self::Payment(report) => report.status >= AttemptStatus::Authorized,
            Self::Refund { .. }
            | Self::RefundTried { .. }
            | Self::RefundEnded { .. }
            | Self::Settled { .. }
            | Self::Closed { .. }
            | Self::Expired => true,
            Self::RefundAsked { .. } => !is_ask(self),
            _ => false,
        }
    }
}

/// What only a shop's asking brings about. Money that the terms send back is asked back by us.
#[must_use]
pub fn is_ask(event: &Event) -> bool {
    match event {
        Event::Fulfilment { .. } | Event::Resend { .. } | Event::ResendAnswered { .. } => true,
        Event::RefundAsked { id, .. } => !id.starts_with(SEND_BACK_PREFIX),
        _ => false,
    }
}

/// How a call to the gateway for a refund ended without the gateway taking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundOutcome {
    /// Refused for good.
    Refused,
    /// Certainly not done, and may be asked for again.
    Later,
    /// Nobody knows.
    Unknown,
    /// A person found out that it never happened.
    Dismissed,
}

/// The name of a request that has an `Idempotency-Key`: short, and says nothing of what the caller put into it.
#[must_use]
pub fn request_name(idempotency_key: &str) -> String {
    hex::encode(sha256(idempotency_key.as_bytes()))
        .chars()
        .take(24)
        .collect()
}

/// A fact with its time and who brought it. On the wire an array `[milliseconds, "by", {…}]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Millis, String, Event)", into = "(Millis, String, Event)")]
pub struct Recorded {
    /// When it was stored.
    pub at: Millis,
    /// Who brought it: `pos:<key id>`, a vendor's name, or one of our functions.
    pub by: String,
    /// What happened.
    pub event: Event,
}

impl Recorded {
    /// An event with its time and bringer.
    pub fn new(at: Millis, by: impl Into<String>, event: Event) -> Self {
        Self {
            at,
            by: by.into(),
            event,
        }
    }
}

impl From<(Millis, String, Event)> for Recorded {
    fn from((at, by, event): (Millis, String, Event)) -> Self {
        Self { at, by, event }
    }
}

impl From<Recorded> for (Millis, String, Event) {
    fn from(r: Recorded) -> Self {
        (r.at, r.by, r.event)
    }
}

/// Keeps a repeated event from being stored twice: one text per fact, e.g. `pay_N1:captured`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once(String);

impl Once {
    /// For a hint: one per payment, whatever is said about it.
    #[must_use]
    pub fn hint(payment_id: &str) -> Self {
        Self(format!("hint:{payment_id}"))
    }

    /// For a report about an attempt to pay. Several webhooks tell of the same fact; they share this.
    #[must_use]
    pub fn payment(report: &PaymentReport) -> Self {
        let status = match report.status {
            crate::payment::AttemptStatus::Pending => "p",
            crate::payment::AttemptStatus::Failed => "f",
            crate::payment::AttemptStatus::Authorized => "a",
            crate::payment::AttemptStatus::Captured => "c",
        };
        // The amount is part of it: a report with another amount is another fact, and must be seen. So is the word that a payment
        // of another sum pays all that was asked for, with its fee and offer.
        let amount = report.amount.get();
        let mut name = format!("{}:{status}:{amount}", report.payment_id);
        for (letter, told) in [
            ('l', report.paid_in_full),
            ('f', report.fee),
            ('o', report.offer),
        ] {
            if let Some(told) = told {
                name.push_str(&format!(":{letter}{}", told.get()));
            }
        }
        Self(name)
    }

    /// For an ask to refund: one name, one refund.
    #[must_use]
    pub fn refund_asked(id: &str) -> Self {
        Self(format!("ra:{id}"))
    }

    /// For one more try of a refund.
    #[must_use]
    pub fn refund_tried(id: &str, attempt: u32) -> Self {
        Self(format!("rt:{id}:{attempt}"))
    }

    /// For the end of a try of a refund.
    #[must_use]
    pub fn refund_ended(id: &str, attempt: u32) -> Self {
        Self(format!("re:{id}:{attempt}"))
    }

    /// For what a question about one of our refunds found.
    #[must_use]
    pub fn refund_found(id: &str, report: &RefundReport) -> Self {
        Self(format!("rf:{id}:{}", Self::refund(report).0))
    }

    /// For a report about a refund. Webhooks, lookups and our own call tell of the same fact; they share this.
    #[must_use]
    pub fn refund(report: &RefundReport) -> Self {
        let status = match report.status {
            RefundStatus::Pending => "p",
            RefundStatus::Failed => "f",
            RefundStatus::Processed => "d",
        };
        let name = report.id.as_deref().or(report.name.as_deref());
        Self(format!(
            "rr:{}:{status}:{}",
            name.unwrap_or(&report.payment_id),
            report.amount.get()
        ))
    }

    /// For a try to send.
    #[must_use]
    pub fn attempt(message: &MessageKey, attempt: u32) -> Self {
        Self(format!("t:{message}:{attempt}"))
    }

    /// For the end of a try to send.
    #[must_use]
    pub fn outcome(message: &MessageKey, attempt: u32) -> Self {
        Self(format!("o:{message}:{attempt}"))
    }

    /// For a delivery report.
    #[must_use]
    pub fn report(message: &MessageKey, attempt: u32, report: &Report) -> Self {
        let what = match report {
            Report::Progress(p) => match p {
                crate::message::Progress::Sent => "s",
                crate::message::Progress::Delivered => "d",
                crate::message::Progress::Read => "r",
            },
            Report::Failed(f) => f.code.as_str(),
        };
        Self(format!("r:{message}:{attempt}:{what}"))
    }

    /// For a fact that can happen once in an order's life.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Progress, Remedy};
    use crate::money::Paise;

    /// Every event with every field, so that no two fields share a letter: serde writes such an event and cannot read it back.
    #[test]
    fn every_event_is_read_as_it_was_written() {
        let message = MessageKey::Invoice(1);
        let at = Millis::from_seconds(1_795_305_600);
        let failure = SendFailure {
            remedy: Remedy::RetryAfter(60),
            code: "131016".to_owned(),
            detail: "Service unavailable".to_owned(),
        };
        let events = [
            Event::Created,
            Event::Started(Started {
                id: "plink_1".to_owned(),
                link: "https://rzp.io/i/1".to_owned(),
                expires_at: at,
                extra: Some("{}".to_owned()),
            }),
            Event::StartRefused {
                code: "BAD_REQUEST_ERROR".to_owned(),
                detail: "no".to_owned(),
            },
            Event::Payment(PaymentReport {
                paid_in_full: Some(Paise::new(84_000).unwrap()),
                fee: Some(Paise::new(1_003).unwrap()),
                offer: Some(Paise::new(3).unwrap()),
                status: AttemptStatus::Failed,
                payment_id: "pay_1".to_owned(),
                amount: Paise::new(85_000).unwrap(),
                currency: "INR".to_owned(),
                method: Some("upi".to_owned()),
                error: Some("payment_failed".to_owned()),
                at: Some(at),
            }),
            Event::Hint {
                payment_id: "pay_1".to_owned(),
            },
            Event::Closed {
                reason: Closed::Expired,
            },
            Event::Expired,
            Event::Fulfilment {
                to: Fulfilment::Shipped,
                description: Some("by courier".to_owned()),
            },
            Event::Resend {
                number: 2,
                reference: ReferenceId::parse("A-1-2").unwrap(),
                to: Some(Msisdn::parse("+919812345678").unwrap()),
                key: Some(request_name("till-7")),
            },
            Event::ResendAnswered {
                key: Some(request_name("till-7")),
            },
            Event::Try {
                message: message.clone(),
                attempt: 1,
                form: Form::Interactive,
                fallback: true,
                sms: true,
            },
            Event::Sent {
                message: message.clone(),
                attempt: 1,
                id: "wamid.1".to_owned(),
                segments: Some(2),
            },
            Event::SendFailed {
                message: message.clone(),
                attempt: 1,
                failure: failure.clone(),
                again_at: Some(at),
            },
            Event::Skipped {
                message: message.clone(),
                why: "expired".to_owned(),
            },
            Event::RefundAsked {
                id: "r-1".to_owned(),
                amount: Some(Paise::new(100).unwrap()),
                payment_id: Some("pay_1".to_owned()),
                speed: Speed::Instant,
                reason: Some("torn".to_owned()),
            },
            Event::RefundTried {
                id: "r-1".to_owned(),
                attempt: 2,
            },
            Event::RefundEnded {
                id: "r-1".to_owned(),
                outcome: RefundOutcome::Later,
                error: "insufficient_balance: no".to_owned(),
                obstacle: Some("insufficient_balance".to_owned()),
            },
            Event::Refund {
                id: Some("r-1".to_owned()),
                report: RefundReport {
                    status: RefundStatus::Processed,
                    id: Some("rfnd_1".to_owned()),
                    name: Some("r-1".to_owned()),
                    payment_id: "pay_1".to_owned(),
                    amount: Paise::new(100).unwrap(),
                    speed: Some(Speed::Normal),
                    bank_reference: Some("ARN1".to_owned()),
                    error: Some("none".to_owned()),
                    at: Some(at),
                },
            },
            Event::KeptBack {
                payment_id: "pay_1".to_owned(),
            },
            Event::Reminded,
            Event::Settled {
                payment_id: "pay_1".to_owned(),
                accept: true,
            },
            Event::Report {
                message: message.clone(),
                attempt: 1,
                report: Report::Progress(Progress::Read),
            },
            Event::Report {
                message,
                attempt: 1,
                report: Report::Failed(failure),
            },
        ];
        for event in events {
            let recorded = Recorded::new(at, "test", event);
            let text = serde_json::to_string(&recorded).unwrap();
            let read: Recorded =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(read, recorded);
        }
    }
}
