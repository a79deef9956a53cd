//! What is asked of a payment gateway and what it reports. Vendor spellings never come this far.

use serde::{Deserialize, Serialize};

use crate::bill::Bill;
use crate::ids::ReferenceId;
use crate::money::Paise;
use crate::time::Millis;

/// How a tenant's customers pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMode {
    /// Native checkout inside WhatsApp through a payment configuration.
    PaymentGateway,
    /// A link of the gateway.
    PaymentLink,
    /// A UPI intent.
    UpiIntent,
}

impl PaymentMode {
    /// The word used in tenant documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PaymentGateway => "payment_gateway",
            Self::PaymentLink => "payment_link",
            Self::UpiIntent => "upi_intent",
        }
    }
}

/// The note that names the bill in everything a gateway tells of its payment, where the gateway has notes.
pub const REFERENCE_NOTE: &str = "chatbill_reference";

/// The note that proves it: [`crate::proof::BillProofs`].
pub const PROOF_NOTE: &str = "chatbill_proof";

/// What the gateway is asked to collect.
#[derive(Debug, Clone)]
pub struct PaymentRequest {
    /// Our bill number; every gateway call carries it.
    pub reference: ReferenceId,
    /// The exact amount.
    pub amount: Paise,
    /// When the bill ends.
    pub expires_at: Millis,
    /// A line for the gateway's page, e.g. the shop's name and the bill number.
    pub description: String,
    /// The merchant's notes.
    pub notes: Vec<(String, String)>,
    /// Where the gateway sends the customer's browser afterwards: our receipt page. Never believed.
    pub return_url: String,
    /// True when an earlier attempt may have reached the gateway: look before creating.
    pub maybe_exists: bool,
    /// How it is to be paid.
    pub mode: PaymentMode,
    /// What the gateway calls the order: `Gateway::order_id`.
    pub order_id: String,
    /// The bill, for gateways that want the customer or the merchant's own fields.
    pub bill: Bill,
    /// The shop's name.
    pub shop: String,
    /// When it is asked.
    pub now: Millis,
    /// Our page that leads to the payment: a redirect, or a form that posts itself (`Gateway::pay_form`).
    pub pay_url: String,
    /// Where the gateway reports to.
    pub webhook_url: String,
    /// The device the bill was posted from; unknown when a crash is being cleaned up.
    pub device: Option<Device>,
}

/// The caller's device. BillDesk wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Public address as the edge saw it.
    pub ip: String,
    /// `User-Agent` header.
    pub user_agent: String,
}

/// A form that the customer's browser posts to the gateway. It carries a signature, no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayForm {
    /// Where to.
    pub action: String,
    /// Names and values in the gateway's sequence.
    pub fields: Vec<(String, String)>,
}

/// A payment the customer can now make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The gateway's id of the link or transaction.
    #[serde(rename = "i")]
    pub id: String,
    /// What the customer opens: an https link or a `upi://pay` intent.
    #[serde(rename = "l")]
    pub link: String,
    /// When the gateway closes it.
    #[serde(rename = "x")]
    pub expires_at: Millis,
    /// What else `Gateway::pay_form` needs, as the gateway gave it. Not `e`: that is the event's tag.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,
}

/// The state of one attempt to pay, in the sequence of what counts more: news comes in any order, and the highest of them stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptStatus {
    /// Begun.
    Pending,
    /// The bank agreed; the gateway has not taken the money yet.
    Authorized,
    /// It failed, or what the bank had agreed to was voided: the attempt is over. Some banks turn a failed payment into a captured
    /// one days later.
    Failed,
    /// The gateway has the money.
    Captured,
}

impl AttemptStatus {
    /// Money moves, or is about to.
    #[must_use]
    pub const fn moves_money(self) -> bool {
        matches!(self, Self::Authorized | Self::Captured)
    }
}

/// What a payment is made of: `received = worth + fee - offer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// What it pays of the bill.
    pub worth: Paise,
    /// What the customer paid.
    pub received: Paise,
    /// The gateway's fee in it, which the customer bears.
    pub fee: Paise,
    /// What an offer of the gateway took off.
    pub offer: Paise,
}

impl Parts {
    /// No money.
    pub const NONE: Self = Self {
        worth: Paise::ZERO,
        received: Paise::ZERO,
        fee: Paise::ZERO,
        offer: Paise::ZERO,
    };

    /// What can go back: all that was received but the gateway's fee. No gateway documents that it returns a fee the customer bore,
    /// and PayU ("Refunds for Offers") refuses more than was debited.
    #[must_use]
    pub fn refundable(&self) -> Paise {
        self.received.checked_sub(self.fee).unwrap_or(Paise::ZERO)
    }

    fn adds_up(&self) -> bool {
        let out = self.worth.checked_add(self.fee);
        out.is_some() && out == self.received.checked_add(self.offer)
    }
}

/// One report about one attempt, from a verified webhook or a lookup.
///
/// What the gateway took from the customer may differ from what we asked for: a fee the customer bears is on top, an offer of the
/// gateway is taken off. Then `amount = paid_in_full + fee - offer`, as far as the gateway tells of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReport {
    /// State of the attempt.
    #[serde(rename = "s")]
    pub status: AttemptStatus,
    /// The gateway's id of the payment; attempts are told apart by it.
    #[serde(rename = "p")]
    pub payment_id: String,
    /// What the gateway took from the customer, fee and offer included.
    #[serde(rename = "a")]
    pub amount: Paise,
    /// ISO 4217 code.
    #[serde(rename = "c")]
    pub currency: String,
    /// `upi`, `card`, `wallet`, `netbanking` …
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Why it failed, as a code or short text of the gateway.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The gateway's time of the payment; decides whether money came late.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
    /// What we asked for, where the gateway itself says that this payment pays all of it although `amount` is another sum. `None`
    /// where `amount` says it all: the common case has one fact, whichever webhook tells of it.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub paid_in_full: Option<Paise>,
    /// Part of `amount`: the gateway's fee, on top of what we asked for, because the customer bears it.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Paise>,
    /// Not part of `amount`: what an offer of the gateway took off what we asked for.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Paise>,
}

impl PaymentReport {
    /// This report, knowing that the gateway calls `asked` paid in full by it.
    #[must_use]
    pub fn paying(self, asked: Paise) -> Self {
        Self {
            paid_in_full: (asked != self.amount).then_some(asked),
            ..self
        }
    }

    /// Whether this report has everything that `other` tells.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let has = |mine: Option<Paise>, theirs: Option<Paise>| theirs.is_none() || mine == theirs;
        self.payment_id == other.payment_id
            && self.status == other.status
            && self.amount == other.amount
            && self.currency == other.currency
            && has(self.paid_in_full, other.paid_in_full)
            && has(self.fee, other.fee)
            && has(self.offer, other.offer)
    }

    /// It pays `asked`: that sum came, or the gateway says that what came is all of it. Where the gateway says what it asked for, that
    /// is what has to be the bill's sum.
    #[must_use]
    pub fn pays(&self, asked: Paise) -> bool {
        self.currency == "INR" && self.paid_in_full.unwrap_or(self.amount) == asked
    }

    /// What it is made of, when `asked` is what we asked for.
    #[must_use]
    pub fn parts(&self, asked: Paise) -> Parts {
        let asked = self.paid_in_full.unwrap_or(asked);
        let received = self.amount;
        let fee = self.fee.unwrap_or(Paise::ZERO);
        let offer = self.offer.unwrap_or(Paise::ZERO);
        let plain = Parts {
            worth: received,
            received,
            fee: Paise::ZERO,
            offer: Paise::ZERO,
        };
        let worth = received
            .checked_sub(fee)
            .and_then(|rest| rest.checked_add(offer));
        let told = worth.map(|worth| Parts {
            worth,
            received,
            fee,
            offer,
        });
        match told {
            Some(told) if told.worth == asked => told,
            _ if received == asked => plain,
            // What the gateway did not tell of one by one is the difference: more came because of a fee, less because of an offer.
            _ if self.paid_in_full.is_some() => {
                let all = asked.checked_add(fee);
                let expected = all.and_then(|all| all.checked_sub(offer)).unwrap_or(asked);
                let over = received.checked_sub(expected).unwrap_or(Paise::ZERO);
                let under = expected.checked_sub(received).unwrap_or(Paise::ZERO);
                let explained = Parts {
                    worth: asked,
                    received,
                    fee: fee.checked_add(over).unwrap_or(fee),
                    offer: offer.checked_add(under).unwrap_or(offer),
                };
                if explained.adds_up() {
                    explained
                } else {
                    plain
                }
            }
            Some(told) => told,
            None => plain,
        }
    }
}

/// Why a gateway closed a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// Somebody canceled it.
    Canceled,
    /// Its time ran out.
    Expired,
}

/// What a lookup needs to find a payment at the gateway.
#[derive(Debug, Clone)]
pub struct LookupRequest {
    /// Our bill number, as the gateway knows it.
    pub reference: ReferenceId,
    /// The gateway's id from [`Started`], when there is one.
    pub gateway_id: Option<String>,
    /// What the gateway calls the order: `Gateway::order_id`.
    pub order_id: String,
    /// How it is to be paid.
    pub mode: PaymentMode,
    /// The exact amount.
    pub amount: Paise,
    /// When the order was made.
    pub created_at: Millis,
    /// When it is asked.
    pub now: Millis,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Every attempt the gateway tells of.
    pub reports: Vec<PaymentReport>,
    /// The link is closed.
    pub closed: Option<Closed>,
    /// Every refund the gateway tells of along with it, ours and those of its dashboard.
    pub refunds: Vec<RefundReport>,
}

/// How fast money is to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// In the bank's time, five to seven working days.
    Normal,
    /// At once where the customer's bank can; otherwise in the bank's time.
    Instant,
}

/// What a gateway needs to give money back, and to be asked about it.
#[derive(Debug, Clone)]
pub struct RefundRequest {
    /// Our bill number.
    pub reference: ReferenceId,
    /// What the gateway calls the order: `Gateway::order_id`.
    pub order_id: String,
    /// The gateway's id of the link or transaction, when there is one.
    pub gateway_id: Option<String>,
    /// How it was paid.
    pub mode: PaymentMode,
    /// The payment the money goes back from.
    pub payment_id: String,
    /// What that payment paid of the bill, which is what the gateway was asked to take.
    pub captured: Paise,
    /// When.
    pub captured_at: Millis,
    /// The shop's name of this refund.
    pub refund_id: String,
    /// Twenty letters and digits that belong to this refund alone: the same each time it is asked for, so that a gateway which
    /// knows idempotency keys refunds once.
    pub token: String,
    /// How much.
    pub amount: Paise,
    /// Refunded or being refunded besides this one.
    pub before: Paise,
    /// The gateway's ids of this payment's other refunds: none of them is this one.
    pub others: Vec<String>,
    /// Those of `others` that the gateway has told of since this one was asked for, of the same amount and under no name of ours. Each of
    /// them may be this one, or another of ours whose answer is out, too.
    pub unnamed: Vec<String>,
    /// How many refunds of the same amount of the same payment were asked for before this one and have their answers out.
    pub ahead: usize,
    /// It was never asked for before, so nothing that the gateway lists can be it.
    pub first: bool,
    /// When the same amount of this payment was last refunded.
    pub same_amount_at: Option<Millis>,
    /// How fast.
    pub speed: Speed,
    /// Why, in the shop's words.
    pub reason: Option<String>,
    /// When it is asked.
    pub now: Millis,
    /// The gateway's id of the refund, once it gave one.
    pub gateway_refund_id: Option<String>,
    /// The gateway answered the last call with a clear "not now"; this is the number of the call at hand. What makes the gateway
    /// turn repetitions down may then be another than the last call's.
    pub not_now: Option<u32>,
}

/// Where a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// The gateway took it and works on it.
    Pending,
    /// The gateway gave up; the money stays.
    Failed,
    /// The money went back.
    Processed,
}

/// One report about one refund, from our own call, a verified webhook or a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundReport {
    /// Where it is.
    #[serde(rename = "s")]
    pub status: RefundStatus,
    /// The gateway's id of the refund, where it gives one.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Our [`RefundRequest::token`] or [`RefundRequest::refund_id`], where the gateway repeats it.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The payment.
    #[serde(rename = "p")]
    pub payment_id: String,
    /// How much.
    #[serde(rename = "a")]
    pub amount: Paise,
    /// How fast it really is.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// The bank's reference (ARN, RRN, UTR), for the customer's question at the bank.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub bank_reference: Option<String>,
    /// Why it failed.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When, by the gateway's clock.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
}

/// How a cancellation at the gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceled {
    /// No money can come through it any more.
    Closed,
    /// It is paid already; look it up.
    AlreadyPaid,
}
