//! What is asked of a payment gateway and what it reports. Vendor spellings never come this far.

use serde::{Deserialize, Serialize};

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
}

/// The state of one attempt to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptStatus {
    /// Begun.
    Pending,
    /// It failed. Some banks turn a failed payment into a captured one days later.
    Failed,
    /// The bank agreed; the gateway has not taken the money yet.
    Authorized,
    /// The gateway has the money.
    Captured,
}

/// One report about one attempt, from a verified webhook or a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentReport {
    /// State of the attempt.
    #[serde(rename = "s")]
    pub status: AttemptStatus,
    /// The gateway's id of the payment; attempts are told apart by it.
    #[serde(rename = "p")]
    pub payment_id: String,
    /// The amount the gateway speaks of.
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
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Every attempt the gateway tells of.
    pub reports: Vec<PaymentReport>,
    /// The link is closed.
    pub closed: Option<Closed>,
}

/// How a cancellation at the gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceled {
    /// No money can come through it any more.
    Closed,
    /// It is paid already; look it up.
    AlreadyPaid,
}
