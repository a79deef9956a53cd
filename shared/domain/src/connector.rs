//! What a payment gateway and a messaging provider must be able to do. There are no default bodies: forgetting to verify a
//! webhook is a compile error, not an open door.

use crate::bill::Bill;
use crate::fault::Fault;
use crate::http::{Answer, Step};
use crate::ids::ReferenceId;
use crate::message::{Outgoing, Report, Tag};
use crate::payment::{
    Canceled, Closed, Found, LookupRequest, PaymentMode, PaymentReport, PaymentRequest, Started,
};
use crate::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};

/// What a webhook tells us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Something about an attempt to pay.
    Payment {
        /// The order, as the sender knows it.
        reference: ReferenceId,
        /// What it says.
        report: PaymentReport,
        /// Whether it may be applied as it stands.
        trust: Trust,
    },
    /// The gateway's link is closed.
    LinkClosed {
        /// The order.
        reference: ReferenceId,
        /// Why.
        reason: Closed,
    },
    /// A delivery report.
    Message {
        /// Which message of which order.
        tag: Tag,
        /// What it says.
        report: Report,
    },
    /// Understood, and of no consequence to an order; the text goes to the log.
    Ignored(String),
}

/// Whether a signal may change money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Signed by the gateway that holds the money.
    Proven,
    /// Anything else: the holder of the money is asked before the order changes.
    Hint,
}

/// Receives webhooks. Implemented by gateways and messaging providers alike.
pub trait Webhooks: Send + Sync {
    /// The sender as it stands in the URL: `/webhooks/<name>/<tenant>`.
    fn name(&self) -> &'static str;

    /// Checks the signature over the exact bytes.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused>;

    /// Reads what was verified.
    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable>;

    /// The body the sender wants to see with a 200.
    fn acknowledgement(&self) -> &'static str;

    /// Answers a verification GET with the challenge, if this sender has such a thing and the token is right.
    fn challenge(&self, raw: &RawWebhook) -> Option<String>;
}

/// A payment gateway: builds calls, reads answers, no I/O. Each operation is a conversation, see [`Step`].
pub trait Gateway: Webhooks {
    /// What this gateway could not collect in this mode, as faults of the bill. `expires_in` is in seconds.
    fn check(&self, bill: &Bill, mode: PaymentMode, expires_in: i64) -> Vec<Fault>;

    /// Makes a payment link or an intent.
    fn start(&self, request: &PaymentRequest, answers: &[Answer]) -> Step<Started>;

    /// Asks what became of a payment.
    fn lookup(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Found>;

    /// Makes sure no more money can come.
    fn cancel(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Canceled>;
}

/// A messaging provider.
pub trait Channel: Webhooks {
    /// Sends one message; gives the provider's id of it.
    fn send(&self, message: &Outgoing<'_>, answers: &[Answer]) -> SendStep;

    /// Asks about a payment made natively inside WhatsApp.
    fn lookup_payment(&self, reference: &ReferenceId, answers: &[Answer]) -> Step<Found>;
}

/// Like [`Step`], for sending: failures are sorted by what they call for.
#[derive(Debug)]
pub enum SendStep {
    /// Make this call and come back with its answer.
    Call(Box<crate::http::HttpCall>),
    /// The provider took it.
    Sent {
        /// The provider's id of it.
        id: String,
        /// In how many parts it goes out, and is paid for; SMS only.
        segments: Option<u8>,
    },
    /// It did not.
    Failed(crate::message::SendFailure),
}
