//! An order: its bill, its terms, its events, and everything that follows from them.
//!
//! State is never stored; [`Order::new`] computes it by applying the events in the sequence they were written. Applying is
//! total: an event that no longer fits (a repeated capture, a late failure, a report for a message already read) changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bill::Bill;
use crate::contact::Msisdn;
use crate::delivery;
use crate::event::{Event, Recorded, RefundOutcome, is_ask};
use crate::ids::{OrderKey, ReferenceId};
use crate::message::{Form, Fulfilment, MessageKey, Progress, Remedy, Report, SendFailure};
use crate::money::Paise;
use crate::payment::{
    AttemptStatus, Closed, Parts, PaymentMode, PaymentReport, RefundReport, RefundStatus, Started,
};
use crate::refund::{self, Ask, Refund, RefundState, Refunds};
use crate::tenant::LatePayment;
use crate::time::Millis;

/// What was agreed when the bill was taken. A later change of the tenant's document does not change old orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How it is paid.
    #[serde(rename = "m")]
    pub mode: PaymentMode,
    /// At which gateway.
    #[serde(rename = "g")]
    pub gateway: String,
    /// With which of the tenant's accounts there: [`crate::tenant::Account::mark`].
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Which channel tells the customer: `whatsapp` or `sms`.
    #[serde(rename = "k")]
    pub channel: String,
    /// Which provider.
    #[serde(rename = "v")]
    pub provider: String,
    /// Fulfilment once paid.
    #[serde(rename = "c")]
    pub on_captured: Fulfilment,
    /// What happens to late money.
    #[serde(rename = "l")]
    pub late_payment: LatePayment,
    /// The receipt link goes out as a message of its own.
    #[serde(rename = "r", default, skip_serializing_if = "std::ops::Not::not")]
    pub receipt_message: bool,
    /// The customer is told when an attempt to pay failed.
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    pub failed_message: bool,
    /// The receipt page's address.
    #[serde(rename = "u")]
    pub receipt_url: String,
}

/// What is written once, when the order is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The bill.
    #[serde(rename = "b")]
    pub bill: Bill,
    /// The terms.
    #[serde(rename = "t")]
    pub terms: Terms,
    /// [`Bill::hash`].
    #[serde(rename = "h")]
    pub hash: String,
    /// When it was taken.
    #[serde(rename = "c")]
    pub created_at: Millis,
    /// When it ends.
    #[serde(rename = "x")]
    pub expires_at: Millis,
}

/// An order about to be created.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its key.
    pub key: OrderKey,
    /// Its contents.
    pub contents: Contents,
    /// Its first event.
    pub created: Recorded,
    /// When it is to be looked at if nothing else happens.
    pub due: Millis,
}

/// Where the money is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Not paid.
    Pending,
    /// Every attempt so far failed. Not the end.
    Failed,
    /// Paid.
    Captured,
    /// Some of it went back.
    PartiallyRefunded,
    /// All of it went back.
    Refunded,
    /// Called off before it was paid.
    Canceled,
    /// Not paid in time.
    Expired,
}

impl PaymentStatus {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Captured => "captured",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }

    /// Money was taken, whatever happened to it later.
    #[must_use]
    pub const fn is_paid(self) -> bool {
        matches!(
            self,
            Self::Captured | Self::PartiallyRefunded | Self::Refunded
        )
    }

    /// Money may still come in the regular way.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Failed)
    }
}

/// Why an order needs a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A verified report speaks of another amount.
    AmountMismatch,
    /// A verified report speaks of another currency.
    CurrencyMismatch,
    /// Money came after cancellation or expiry.
    LatePayment,
    /// Money came twice.
    DoublePayment,
    /// The gateway tells of more refunded than was taken.
    RefundMismatch,
}

impl Hold {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AmountMismatch => "amount_mismatch",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::LatePayment => "late_payment",
            Self::DoublePayment => "double_payment",
            Self::RefundMismatch => "refund_mismatch",
        }
    }
}

/// An attempt to pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The latest report that counts.
    pub report: PaymentReport,
    /// Whether it pays this order.
    pub counted: bool,
    /// It failed once, whatever the bank made of it later.
    pub failed_once: bool,
    /// When we first heard of it.
    pub seen_at: Millis,
    /// When we heard of the state it is in.
    pub since: Millis,
}

impl Attempt {
    fn new(report: &PaymentReport, at: Millis) -> Self {
        Self {
            report: report.clone(),
            counted: false,
            failed_once: false,
            seen_at: at,
            since: at,
        }
    }

    /// The bank agreed a short while ago, so the gateway may take the money any moment.
    fn awaits_capture(&self, now: Millis) -> bool {
        let began = self.report.at.unwrap_or(self.since).min(self.since);
        self.report.status == AttemptStatus::Authorized && now < began.plus_seconds(CAPTURE_WINDOW)
    }
}

/// Captured money that does not pay the order in the regular way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The report that told of it.
    pub report: PaymentReport,
    /// What is wrong with it.
    pub hold: Hold,
    /// When we heard of it.
    pub since: Millis,
    /// A person took care of it, or the terms say that it stays.
    pub settled: bool,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageStatus {
    /// To be sent.
    Queued,
    /// A try has begun and not ended: the provider is being asked, or we crashed.
    Sending,
    /// The last try failed and another will follow.
    Retrying,
    /// The last try's answer was lost.
    Unknown,
    /// The provider took it.
    Sent,
    /// It is on the phone.
    Delivered,
    /// It was seen.
    Read,
    /// Given up.
    Failed,
    /// Not needed any more.
    Skipped,
}

impl MessageStatus {
    /// The word in the API. Our finer distinctions of "not sent yet" are `queued` to the outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued | Self::Sending | Self::Retrying => "queued",
            Self::Unknown => "unknown",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Nothing more has to be done to send it.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Sent | Self::Delivered | Self::Read | Self::Failed | Self::Skipped
        )
    }
}

/// One message an order owes its customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub key: MessageKey,
    /// Where it is.
    pub status: MessageStatus,
    /// Tries begun.
    pub attempts: u32,
    /// Tries that ended in failure.
    pub failures: u32,
    /// Since when it is owed.
    pub since: Millis,
    /// When the last try began.
    pub tried_at: Option<Millis>,
    /// When the next try is planned.
    pub again_at: Option<Millis>,
    /// When the provider took it.
    pub sent_at: Option<Millis>,
    /// Form of the last try.
    pub form: Option<Form>,
    /// The next try is due at once, as a template.
    pub template_next: bool,
    /// The customer's 24-hour window was found closed: from now on only the template.
    pub window_closed: bool,
    /// WhatsApp has definitely failed: from now on an SMS.
    pub by_sms: bool,
    /// The next try is due at once, as an SMS.
    pub sms_next: bool,
    /// The provider's id.
    pub provider_id: Option<String>,
    /// In how many parts the SMS went out.
    pub segments: Option<u8>,
    /// The last failure.
    pub failure: Option<SendFailure>,
    /// Its pictures failed twice: from now on without them.
    pub bare: bool,
    /// Its pictures failed.
    media_failed: bool,
    /// A template stands by.
    fallback: bool,
    /// An SMS stands by.
    sms: bool,
    /// Some try may have arrived although nobody said so.
    uncertain: bool,
}

impl Message {
    fn new(key: MessageKey, since: Millis) -> Self {
        Self {
            key,
            status: MessageStatus::Queued,
            attempts: 0,
            failures: 0,
            since,
            tried_at: None,
            again_at: None,
            sent_at: None,
            form: None,
            template_next: false,
            window_closed: false,
            by_sms: false,
            sms_next: false,
            provider_id: None,
            segments: None,
            failure: None,
            bare: false,
            media_failed: false,
            fallback: false,
            sms: false,
            uncertain: false,
        }
    }
}

/// An order as it stands.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its key.
    pub key: OrderKey,
    /// What was written at creation.
    pub contents: Contents,
    /// Everything that happened, in the sequence it was stored.
    pub events: Vec<Recorded>,
    /// When it is due to be looked at, as stored.
    pub due: Option<Millis>,
    /// How often it was looked at since its last change, in vain.
    pub checks: u32,
    /// The link or intent, once the gateway made one.
    pub started: Option<Started>,
    /// The gateway's refusal to make one, if that is how it stands.
    pub refusal: Option<(String, String)>,
    /// Attempts to pay, by the gateway's payment id.
    pub attempts: BTreeMap<String, Attempt>,
    /// Fulfilment.
    pub fulfilment: Fulfilment,
    /// Holds with the time they came up and the payment they are about; those a person settled are gone.
    pub holds: Vec<(Hold, Millis, String)>,
    /// Captured money that does not pay the order, by the gateway's payment id.
    pub strays: BTreeMap<String, Stray>,
    /// Money that goes back.
    pub refunds: Refunds,
    /// Messages in the sequence they became due.
    pub messages: Vec<Message>,
    /// Where messages go: the customer's number, or the corrected one.
    pub phone: Msisdn,
    /// The reference of the latest sending of the bill.
    pub message_reference: ReferenceId,
    /// The failure for which the order turned to SMS; later messages do not try WhatsApp again.
    pub turned_to_sms: Option<String>,
    held: BTreeSet<(Hold, String)>,
    started_at: Option<Millis>,
    hinted_at: Option<Millis>,
    kept_back: BTreeSet<String>,
    closed: Option<(Closed, Millis)>,
    captured: Option<(String, Millis)>,
    paid: Parts,
    /// The sums that a payment's captured reports spoke of.
    sums: BTreeMap<String, BTreeSet<Paise>>,
    reminded: (u32, Option<Millis>),
    fulfilment_log: Vec<(Fulfilment, Option<String>)>,
    paid_status: Option<Fulfilment>,
    resends: u32,
    resend_asks: Vec<ResendAsk>,
}

/// A request to send the bill again that was answered.
#[derive(Debug, Clone)]
struct ResendAsk {
    key: Option<String>,
    phone: Msisdn,
    at: Millis,
}

/// What a repeated request to send the bill again is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResendAsked {
    /// New.
    Never,
    /// The same as before.
    Before,
    /// Another one under the same key.
    OtherNumber,
}

impl Order {
    /// Computes the order from what is stored.
    #[must_use]
    pub fn new(
        key: OrderKey,
        contents: Contents,
        events: Vec<Recorded>,
        due: Option<Millis>,
        checks: u32,
    ) -> Self {
        let mut order = Self {
            phone: contents.bill.customer.phone.clone(),
            message_reference: contents.bill.reference.clone(),
            turned_to_sms: None,
            key,
            contents,
            events: Vec::new(),
            due,
            checks,
            started: None,
            refusal: None,
            attempts: BTreeMap::new(),
            fulfilment: Fulfilment::Pending,
            holds: Vec::new(),
            strays: BTreeMap::new(),
            refunds: Refunds::default(),
            messages: Vec::new(),
            held: BTreeSet::new(),
            started_at: None,
            hinted_at: None,
            kept_back: BTreeSet::new(),
            closed: None,
            captured: None,
            paid: Parts::NONE,
            sums: BTreeMap::new(),
            reminded: (0, None),
            fulfilment_log: Vec::new(),
            paid_status: None,
            resends: 1,
            resend_asks: Vec::new(),
        };
        for recorded in &events {
            order.apply(recorded);
        }
        order.events = events;
        order
    }

    /// The bill.
    #[must_use]
    pub fn bill(&self) -> &Bill {
        &self.contents.bill
    }

    /// The terms.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.contents.terms
    }

    /// When it ends: the gateway's own time once there is a link.
    #[must_use]
    pub fn expires_at(&self) -> Millis {
        self.started
            .as_ref()
            .map_or(self.contents.expires_at, |s| s.expires_at)
    }

    /// The customer can pay: there is a link, or none is needed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.terms().mode == PaymentMode::PaymentGateway || self.started.is_some()
    }

    /// Where the money is.
    #[must_use]
    pub fn payment_status(&self) -> PaymentStatus {
        if self.captured.is_some() {
            let refunded = self.refunded_amount();
            return if refunded == Paise::ZERO {
                PaymentStatus::Captured
            } else if refunded < self.refundable_amount() {
                PaymentStatus::PartiallyRefunded
            } else {
                PaymentStatus::Refunded
            };
        }
        match self.closed {
            Some((Closed::Canceled, _)) => PaymentStatus::Canceled,
            Some((Closed::Expired, _)) => PaymentStatus::Expired,
            None => {
                let all_failed = !self.attempts.is_empty()
                    && self
                        .attempts
                        .values()
                        .all(|a| a.report.status == AttemptStatus::Failed);
                if all_failed {
                    PaymentStatus::Failed
                } else {
                    PaymentStatus::Pending
                }
            }
        }
    }

    /// What pays this order: captured and counted. The bill's total, unless the shop accepted another sum. What the customer really
    /// paid for it is [`Self::paid`]'s to say.
    #[must_use]
    pub fn captured_amount(&self) -> Paise {
        self.paid.worth
    }

    /// What the payment that pays this order is made of.
    #[must_use]
    pub fn paid(&self) -> Parts {
        self.paid
    }

    /// What of the payment that pays this order can go back, in all.
    #[must_use]
    pub fn refundable_amount(&self) -> Paise {
        self.paid.refundable()
    }

    /// Refunded so far of what pays this order.
    #[must_use]
    pub fn refunded_amount(&self) -> Paise {
        self.captured
            .as_ref()
            .map_or(Paise::ZERO, |(id, _)| self.refunds.processed(id))
    }

    /// On its way back, of what pays this order.
    #[must_use]
    pub fn refunding_amount(&self) -> Paise {
        let reserved = self
            .captured
            .as_ref()
            .map_or(Paise::ZERO, |(id, _)| self.refunds.reserved(Some(id)));
        reserved
            .checked_sub(self.refunded_amount())
            .unwrap_or(Paise::ZERO)
    }

    /// What a payment is made of: the one that pays the order, or money that does not.
    #[must_use]
    pub fn parts(&self, payment_id: &str) -> Option<Parts> {
        match (&self.captured, self.strays.get(payment_id)) {
            (Some((id, _)), _) if id == payment_id => Some(self.paid),
            (_, Some(stray)) if stray.report.currency == "INR" => {
                Some(stray.report.parts(self.bill().total))
            }
            _ => None,
        }
    }

    /// What a payment took from the customer.
    #[must_use]
    pub fn taken(&self, payment_id: &str) -> Option<Paise> {
        self.parts(payment_id).map(|parts| parts.received)
    }

    /// What of a payment can go back, in all.
    #[must_use]
    pub fn refundable(&self, payment_id: &str) -> Option<Paise> {
        self.parts(payment_id).map(|parts| parts.refundable())
    }

    /// The n-th refund that went back (from 1), in the sequence we heard of it.
    #[must_use]
    pub fn processed_refund(&self, number: u32) -> Option<&Refund> {
        self.refunds
            .list()
            .iter()
            .find(|r| r.number == Some(number))
    }

    /// Money that the terms send back and nobody has asked back yet: it came late or twice. Money that is another sum than the bill's
    /// waits for a person, whatever the terms say of late money: the gateway's word that it is all there may still come.
    pub fn to_send_back(&self) -> impl Iterator<Item = (&String, &Stray)> {
        self.strays.iter().filter(|(id, stray)| {
            let asked = send_back_id(id);
            self.terms().late_payment == LatePayment::Refund
                && is_sent_back(stray.hold)
                && !stray.settled
                && !self.kept_back.contains(*id)
                && self.refunds.find(&asked).is_none()
                && self.refunds.voided(&asked).is_none()
                && self
                    .refundable(id)
                    .is_some_and(|all| self.refunds.reserved(Some(id)) < all)
        })
    }

    /// Money that is to be sent back by now: news about it that is on its way has had time to arrive.
    pub fn to_send_back_by(&self, now: Millis) -> impl Iterator<Item = &String> {
        self.to_send_back()
            .filter(move |(_, s)| s.since.plus_seconds(SEND_BACK) <= now)
            .map(|(id, _)| id)
    }

    /// The payment that counts, and when it was made.
    #[must_use]
    pub fn payment(&self) -> Option<(&str, Millis)> {
        self.captured.as_ref().map(|(id, at)| (id.as_str(), *at))
    }

    /// This order after one more event.
    #[must_use]
    pub fn with(&self, recorded: Recorded) -> Self {
        let mut next = self.clone();
        next.apply(&recorded);
        next.events.push(recorded);
        next
    }

    /// The n-th change of fulfilment the shop made (from 1), with what it said about it.
    #[must_use]
    pub fn fulfilment_change(&self, number: u32) -> Option<(Fulfilment, Option<&str>)> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.fulfilment_log
            .get(index)
            .map(|(to, description)| (*to, description.as_deref()))
    }

    /// The status the order took by being paid; `None` when the shop had moved it on before.
    #[must_use]
    pub fn paid_status(&self) -> Option<Fulfilment> {
        self.paid_status
    }

    /// The bill went out at least once, so the customer has an order whose status can change.
    #[must_use]
    pub fn bill_was_sent(&self) -> bool {
        self.messages
            .iter()
            .any(|m| matches!(m.key, MessageKey::Invoice(_)) && m.sent_at.is_some())
    }

    /// Messages that nobody took care of in time.
    pub fn neglected(&self, now: Millis) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |m| {
            m.status != MessageStatus::Sent
                && !self.waits_for_bill(&m.key)
                && m.next_check(now).is_some_and(|t| t <= now)
        })
    }

    /// Somebody spoke of a payment before we could tell whose it is, and our own link has not been asked since.
    #[must_use]
    pub fn is_hinted(&self) -> bool {
        self.hinted_at.is_some()
    }

    /// It is time to ask the gateway about this order.
    #[must_use]
    pub fn payment_is_due(&self, now: Millis) -> bool {
        if !self.is_ready() {
            return false;
        }
        if self.payment_status().is_open() {
            return now.seconds_since(self.contents.created_at) >= FIRST_LOOKUPS[0]
                || now >= self.expires_at()
                || self.hint_is_due().is_some_and(|at| now >= at);
        }
        self.closed.is_some() && !self.payment_status().is_paid()
    }

    /// A payment was authorised a short while ago, so the customer is not asked to pay again. An authorisation that the gateway has
    /// not captured in that time hides nothing any more: it may lapse without a word.
    #[must_use]
    pub fn awaits_capture(&self, now: Millis) -> bool {
        self.attempts.values().any(|a| a.awaits_capture(now))
    }

    /// The time to pay is over, and so is the grace for late news.
    #[must_use]
    pub fn is_over(&self, now: Millis) -> bool {
        self.payment_status().is_open() && now >= self.expires_at().plus_seconds(EXPIRY_GRACE)
    }

    /// So long over that no gateway will report about it any more.
    #[must_use]
    pub fn is_long_over(&self, now: Millis) -> bool {
        self.payment_status().is_open() && now >= self.expires_at().plus_seconds(LATE_WINDOW)
    }

    /// A message by name.
    #[must_use]
    pub fn message(&self, key: &MessageKey) -> Option<&Message> {
        self.messages.iter().find(|m| &m.key == key)
    }

    /// The number of the next sending of the bill.
    #[must_use]
    pub fn next_resend(&self) -> u32 {
        self.resends.saturating_add(1)
    }

    /// How often the bill was sent again.
    #[must_use]
    pub fn resends(&self) -> u32 {
        self.resends.saturating_sub(1)
    }

    fn resend_asked(&mut self, key: Option<&str>, at: Millis) {
        self.resend_asks.push(ResendAsk {
            key: key.map(str::to_owned),
            phone: self.phone.clone(),
            at,
        });
    }

    /// Whether this request to send the bill again was answered before: the one of this name, or, without a name, any for the same
    /// number within a minute.
    #[must_use]
    pub fn resend_was_asked(&self, key: Option<&str>, phone: &Msisdn, now: Millis) -> ResendAsked {
        let mut asks = self.resend_asks.iter();
        match key {
            Some(key) => match asks.find(|ask| ask.key.as_deref() == Some(key)) {
                Some(ask) if ask.phone == *phone => ResendAsked::Before,
                Some(_) => ResendAsked::OtherNumber,
                None => ResendAsked::Never,
            },
            None => {
                let recent =
                    |ask: &ResendAsk| ask.phone == *phone && now < ask.at.plus_seconds(SAME_RESEND);
                if asks.any(recent) {
                    ResendAsked::Before
                } else {
                    ResendAsked::Never
                }
            }
        }
    }

    /// The shop may still ask for something that is written down: not too often, and not into the room that reports about money need.
    #[must_use]
    pub fn takes_asks(&self) -> bool {
        self.events.iter().filter(|r| is_ask(&r.event)).count() < MOST_ASKS
            && self.bytes() < ASKS_END
    }

    /// The order has had its tries to send.
    #[must_use]
    pub fn is_out_of_sendings(&self) -> bool {
        let tries = self
            .events
            .iter()
            .filter(|r| matches!(r.event, Event::Try { .. }));
        tries.count() >= MOST_SENDINGS
    }

    /// About what the order takes of its item.
    fn bytes(&self) -> usize {
        let length = |text: serde_json::Result<String>| text.map_or(0, |text| text.len());
        let events = self.events.iter().map(serde_json::to_string).map(length);
        events
            .chain([length(serde_json::to_string(&self.contents))])
            .fold(0, usize::saturating_add)
    }

    /// Messages to put on the queue: owed and never tried, to be tried now as a template, or failed after the provider had
    /// taken them. A task that is queued twice is harmless.
    pub fn to_queue(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|m| {
            m.status == MessageStatus::Queued
                || (m.status == MessageStatus::Retrying && m.provider_id.is_some())
        })
    }

    fn apply(&mut self, recorded: &Recorded) {
        let at = recorded.at;
        match &recorded.event {
            Event::Created => {
                if self.is_ready() {
                    self.owe(MessageKey::Invoice(1), at);
                }
            }
            Event::Started(started) => {
                if self.started.is_none() {
                    self.started = Some(started.clone());
                    self.started_at = Some(at);
                    self.refusal = None;
                    self.owe(MessageKey::Invoice(1), at);
                }
            }
            Event::StartRefused { code, detail } => {
                if self.started.is_none() {
                    self.refusal = Some((code.clone(), detail.clone()));
                }
            }
            Event::Payment(report) => self.apply_payment(report, at),
            Event::Hint { .. } => self.hinted_at = self.hinted_at.max(Some(at)),
            Event::Closed { reason } => self.close(*reason, at),
            Event::Expired => self.close(Closed::Expired, at),
            Event::Fulfilment { to, description } => {
                self.apply_fulfilment(*to, description.as_deref(), at)
            }
            Event::Resend {
                number,
                reference,
                to,
                key,
            } => {
                if *number > self.resends {
                    self.resends = *number;
                    self.message_reference = reference.clone();
                    if let Some(phone) = to {
                        self.phone = phone.clone();
                        // The other number may well have WhatsApp.
                        self.turned_to_sms = None;
                    }
                    self.resend_asked(key.as_deref(), at);
                    self.owe(MessageKey::Invoice(*number), at);
                }
            }
            Event::ResendAnswered { key } => self.resend_asked(key.as_deref(), at),
            Event::Try {
                message,
                attempt,
                form,
                fallback,
                sms,
            } => {
                if let Some(m) = self.message_mut(message)
                    && *attempt > m.attempts
                {
                    m.attempts = *attempt;
                    // A report may have settled the message while the try was being claimed; then it is not made.
                    if !m.status.is_settled() {
                        m.status = MessageStatus::Sending;
                        m.tried_at = Some(at);
                        m.again_at = None;
                        m.form = Some(*form);
                        m.fallback = *fallback;
                        m.sms = *sms;
                        m.template_next = false;
                        m.sms_next = false;
                    }
                }
            }
            Event::Sent {
                message,
                attempt,
                id,
                segments,
            } => {
                if let Some(m) = self.message_mut(message)
                    && *attempt == m.attempts
                {
                    m.provider_id = Some(id.clone());
                    m.segments = *segments;
                    m.sent_at = Some(at);
                    if matches!(m.status, MessageStatus::Sending | MessageStatus::Unknown) {
                        m.status = MessageStatus::Sent;
                    }
                }
            }
            Event::SendFailed {
                message,
                attempt,
                failure,
                again_at,
            } => {
                if let Some(m) = self.message_mut(message)
                    && *attempt == m.attempts
                    && m.status == MessageStatus::Sending
                {
                    m.fail(failure, *again_at);
                    self.turn_to_sms(message, failure);
                }
            }
            Event::Skipped { message, why: _ } => {
                if let Some(m) = self.message_mut(message)
                    && !m.status.is_settled()
                {
                    m.status = MessageStatus::Skipped;
                }
            }
            Event::RefundAsked {
                id,
                amount,
                payment_id,
                speed,
                reason,
            } => {
                let ask = Ask {
                    amount: *amount,
                    payment_id: payment_id.clone(),
                    speed: *speed,
                    reason: reason.clone(),
                };
                let paying = self.captured.as_ref().map(|(id, _)| id.clone());
                let payment = payment_id.clone().or(paying);
                let refundable = payment
                    .as_deref()
                    .and_then(|id| self.refundable(id).map(|amount| (id, amount)));
                self.refunds.ask(id, &ask, refundable, at);
                if self.refunds.voided(id).is_some() {
                    self.not_sent_back(id, at);
                }
            }
            Event::RefundTried { id, attempt } => self.refunds.tried(id, *attempt, at),
            Event::RefundEnded {
                id,
                outcome,
                error,
                obstacle,
            } => {
                let state = match outcome {
                    RefundOutcome::Refused | RefundOutcome::Dismissed => RefundState::Failed,
                    RefundOutcome::Later => RefundState::Waiting,
                    RefundOutcome::Unknown => RefundState::Unknown,
                };
                if *outcome == RefundOutcome::Dismissed {
                    self.refunds.dismiss(id, error, at);
                } else {
                    self.refunds
                        .ended(id, state, error, obstacle.as_deref(), at);
                }
                if state == RefundState::Failed {
                    self.not_sent_back(id, at);
                }
            }
            Event::Refund { id, report } => self.apply_refund(id.as_deref(), report, at),
            Event::KeptBack { payment_id } => {
                self.kept_back.insert(payment_id.clone());
                if let Some(hold) = self.strays.get(payment_id).map(|s| s.hold) {
                    self.hold(hold, payment_id, at);
                }
            }
            Event::Reminded => {
                self.reminded = (self.reminded.0.saturating_add(1), Some(at));
            }
            Event::Settled { payment_id, accept } => self.settle(payment_id, *accept, at),
            Event::Report {
                message,
                attempt,
                report,
            } => self.apply_report(message, *attempt, report, at),
        }
        self.drop_needless_bills();
    }

    /// A bill that waits for its next try is not sent any more once nobody has to pay it: the news of that are what the customer is
    /// owed. One that is with the provider this moment is left to end.
    fn drop_needless_bills(&mut self) {
        let needless: Vec<usize> = self
            .messages
            .iter()
            .enumerate()
            .filter(|(_, m)| {
                let waits = matches!(
                    m.status,
                    MessageStatus::Queued | MessageStatus::Retrying | MessageStatus::Unknown
                );
                waits && self.bill_is_needless(&m.key).is_some()
            })
            .map(|(index, _)| index)
            .collect();
        for index in needless {
            if let Some(m) = self.messages.get_mut(index) {
                m.status = MessageStatus::Skipped;
                m.again_at = None;
                m.template_next = false;
                m.sms_next = false;
            }
        }
    }

    /// Why this sending of the bill has nothing to say any more, whatever the time; `None` for other messages.
    #[must_use]
    pub fn bill_is_needless(&self, key: &MessageKey) -> Option<&'static str> {
        let MessageKey::Invoice(number) = key else {
            return None;
        };
        let newer = |m: &Message| matches!(m.key, MessageKey::Invoice(n) if n > *number);
        if self.messages.iter().any(newer) {
            return Some("the bill was sent again");
        }
        if self.captured.is_some() {
            // A bill to a customer who has paid would invite paying twice.
            return self.paid_stands_alone().then_some("it is paid");
        }
        match self.closed {
            Some((Closed::Canceled, _)) => Some("the order was canceled"),
            Some((Closed::Expired, _)) => Some("the bill has expired"),
            None => None,
        }
    }

    /// The confirmation needs no bill before it. WhatsApp shows a change of status only of an order that the customer has. Without one
    /// the confirmation is a text of its own, which reaches a customer outside the 24-hour window only as the receipt's template; a shop
    /// that has no such template may need the bill after all, as long as the confirmation is on its way.
    fn paid_stands_alone(&self) -> bool {
        let told = self
            .message(&MessageKey::Paid)
            .is_some_and(|m| m.status.is_settled());
        self.bill_was_sent()
            || told
            || self.terms().receipt_message
            || self.terms().channel == "sms"
            || self.turned_to_sms.is_some()
    }

    /// Some sending of the bill may still go out.
    #[must_use]
    pub fn bill_is_open(&self) -> bool {
        self.messages
            .iter()
            .any(|m| matches!(m.key, MessageKey::Invoice(_)) && !m.status.is_settled())
    }

    /// How an order goes on tells nothing to a customer who has no bill yet, so such news wait for one that may still go out.
    #[must_use]
    pub fn waits_for_bill(&self, key: &MessageKey) -> bool {
        matches!(key, MessageKey::Status(_) | MessageKey::Failed)
            && !self.bill_was_sent()
            && self.bill_is_open()
    }

    /// A change of fulfilment that WhatsApp's rules do not allow is ignored; who asks for one is told before it is stored.
    fn apply_fulfilment(&mut self, to: Fulfilment, description: Option<&str>, at: Millis) {
        let allowed = self.fulfilment.may_become(to)
            && !(to == Fulfilment::Canceled && self.captured.is_some());
        if !allowed {
            return;
        }
        self.fulfilment = to;
        self.fulfilment_log
            .push((to, description.map(str::to_owned)));
        let number = u32::try_from(self.fulfilment_log.len()).unwrap_or(u32::MAX);
        self.owe(MessageKey::Status(number), at);
        if to == Fulfilment::Canceled {
            self.close(Closed::Canceled, at);
        }
    }

    fn close(&mut self, reason: Closed, at: Millis) {
        if self.captured.is_none() && self.closed.is_none() {
            self.closed = Some((reason, at));
        }
    }

    /// A report about a refund. Money that went back is told to the customer; money that no longer fits needs a person.
    fn apply_refund(&mut self, own: Option<&str>, report: &RefundReport, at: Millis) {
        let key = self.key.clone();
        let news = self
            .refunds
            .report(own, report, |id| refund::token(&key, id), at);
        if let Some(taken) = self.taken(&report.payment_id)
            && self.refunds.reserved(Some(&report.payment_id)) > taken
        {
            self.hold(Hold::RefundMismatch, &report.payment_id, at);
        }
        if let Some(number) = news {
            self.owe(MessageKey::Refund(number), at);
        }
        let back = self.strays.contains_key(&report.payment_id)
            && self
                .refundable(&report.payment_id)
                .is_some_and(|all| self.refunds.processed(&report.payment_id) >= all);
        if back {
            self.settle(&report.payment_id, false, at);
        }
        if report.status == RefundStatus::Failed {
            self.not_sent_back(&send_back_id(&report.payment_id), at);
        }
    }

    /// What the terms wanted to send back stays: now a person has to look.
    fn not_sent_back(&mut self, refund_id: &str, at: Millis) {
        let payment_id = refund_id.strip_prefix(SEND_BACK_PREFIX);
        let stays = self
            .refunds
            .find(refund_id)
            .map_or(self.refunds.voided(refund_id).is_some(), |r| !r.counts());
        let stray = payment_id
            .filter(|_| stays)
            .and_then(|id| self.strays.get(id).map(|s| (id.to_owned(), s.hold)));
        if let Some((id, hold)) = stray {
            self.hold(hold, &id, at);
        }
    }

    /// A person, or money gone back, settles what was held about a payment.
    fn settle(&mut self, payment_id: &str, accept: bool, at: Millis) {
        self.holds.retain(|(_, _, id)| id != payment_id);
        self.held.retain(|(_, id)| id != payment_id);
        let on_its_way = self.refunds.reserved(Some(payment_id)) > Paise::ZERO;
        let Some(stray) = self.strays.get_mut(payment_id) else {
            return;
        };
        stray.settled = true;
        let pays =
            accept && !on_its_way && self.captured.is_none() && stray.report.currency == "INR";
        if pays {
            let report = stray.report.clone();
            self.strays.remove(payment_id);
            self.pay_with(&report, at);
        }
    }

    /// Captured money that does not pay the order: what becomes of it stands in the terms.
    fn stray(&mut self, hold: Hold, report: &PaymentReport, at: Millis) {
        if report.status == AttemptStatus::Captured {
            let settled =
                self.terms().late_payment == LatePayment::Accept && hold == Hold::DoublePayment;
            self.strays
                .entry(report.payment_id.clone())
                .or_insert_with(|| Stray {
                    report: report.clone(),
                    hold,
                    since: at,
                    settled,
                });
            // More than the bill says pays it where the shop takes such money; less never does.
            let pays = hold == Hold::AmountMismatch
                && self.terms().late_payment == LatePayment::Accept
                && report.amount > self.bill().total
                && self.captured.is_none();
            if pays {
                self.settle(&report.payment_id, true, at);
                return;
            }
            if settled {
                return;
            }
        }
        let sent_back = self.terms().late_payment == LatePayment::Refund && is_sent_back(hold);
        let settled = self
            .strays
            .get(&report.payment_id)
            .is_some_and(|s| s.settled);
        if !sent_back && !settled {
            self.hold(hold, &report.payment_id, at);
        }
    }

    fn apply_payment(&mut self, report: &PaymentReport, at: Millis) {
        let id = &report.payment_id;
        let total = self.bill().total;
        let is_ours = self.captured.as_ref().is_some_and(|(ours, _)| ours == id);
        if report.currency != "INR" {
            match (report.status.moves_money(), is_ours) {
                // A failed or begun attempt over other money moves none; it is still not ours.
                (false, _) => {}
                (true, true) => self.hold(Hold::CurrencyMismatch, id, at),
                (true, false) => self.stray(Hold::CurrencyMismatch, report, at),
            }
            return;
        }
        if report.status == AttemptStatus::Captured {
            let sums = self.sums.entry(id.clone()).or_default();
            sums.insert(report.amount);
            if is_ours {
                self.hear_again(report, at);
                return;
            }
            if !report.pays(total) {
                let is_explained = self
                    .strays
                    .get(id)
                    .is_some_and(|s| s.report.amount == report.amount && s.report.pays(total));
                if !is_explained {
                    self.stray(Hold::AmountMismatch, report, at);
                }
                return;
            }
        }
        let attempt = self
            .attempts
            .entry(id.clone())
            .or_insert_with(|| Attempt::new(report, at));
        attempt.failed_once |= report.status == AttemptStatus::Failed;
        if report.status > attempt.report.status {
            attempt.report = report.clone();
            attempt.since = at;
        }
        if report.status == AttemptStatus::Captured && !attempt.counted {
            let had_failed = attempt.failed_once;
            self.count(report, had_failed, at);
        }
        if self.terms().failed_message && self.payment_status() == PaymentStatus::Failed {
            self.owe(MessageKey::Failed, at);
        }
    }

    /// Another word about the money that pays the order. The gateway's explanation of its sum completes what is known; a sum that
    /// contradicts it needs a person, and nothing of it may go back by itself.
    fn hear_again(&mut self, report: &PaymentReport, at: Millis) {
        let total = self.bill().total;
        let (heard, known) = (report.parts(total), self.paid);
        let explains = report.pays(total)
            && heard.worth == total
            && (known.worth != total || (heard.fee, heard.offer) > (known.fee, known.offer));
        let is_same_money = heard.received == known.received;
        let knew_no_parts = known.received == total && known.worth == total;
        if explains && (is_same_money || knew_no_parts) {
            self.paid = heard;
            if let Some(attempt) = self.attempts.get_mut(&report.payment_id) {
                let before = attempt.report.clone();
                attempt.report = PaymentReport {
                    method: report.method.clone().or(before.method),
                    at: before.at.or(report.at),
                    ..report.clone()
                };
            }
            let sums = self.sums.get(&report.payment_id).into_iter().flatten();
            if sums
                .clone()
                .all(|sum| *sum == heard.received || *sum == total)
            {
                self.release(Hold::AmountMismatch, &report.payment_id);
            }
            if self.refunds.reserved(Some(&report.payment_id)) > heard.received {
                self.hold(Hold::RefundMismatch, &report.payment_id, at);
            }
            return;
        }
        // A list that shows what was asked for without the fee on top says nothing new.
        if !is_same_money && heard.received != known.worth {
            self.hold(Hold::AmountMismatch, &report.payment_id, at);
        }
    }

    /// Money arrived. It pays the order, or the terms say what becomes of it.
    fn count(&mut self, report: &PaymentReport, had_failed: bool, at: Millis) {
        let payment_id = &report.payment_id;
        let paid_at = report.at.unwrap_or(at);
        // What becomes of late or second money was decided when it came, and a person's decision stands; more news of it decides
        // nothing anew. Another word about how much it was may put things right, unless it is on its way back.
        let on_its_way = self.refunds.reserved(Some(payment_id)) > Paise::ZERO;
        if let Some(stray) = self.strays.get_mut(payment_id) {
            let is_explained = stray.report.amount == report.amount;
            let decided = is_sent_back(stray.hold) || stray.settled || on_its_way;
            if decided {
                if is_explained && !stray.report.covers(report) {
                    stray.report = report.clone();
                }
                return;
            }
            if is_explained && stray.hold == Hold::AmountMismatch {
                self.strays.remove(payment_id);
                self.release(Hold::AmountMismatch, payment_id);
            }
        }
        if let Some((first, _)) = &self.captured {
            if first != payment_id {
                self.stray(Hold::DoublePayment, report, at);
            }
            return;
        }
        // Gateways tell when an attempt began. Begun in time counts as in time even if the news is late, unless the attempt had
        // failed and the bank changed its mind. After a cancellation nothing counts: the goods may be sold to somebody else.
        let late = self.closed.is_some_and(|(reason, closed_at)| {
            reason == Closed::Canceled || had_failed || paid_at > closed_at
        });
        if late && self.terms().late_payment != LatePayment::Accept {
            self.stray(Hold::LatePayment, report, at);
            return;
        }
        self.pay_with(report, at);
    }

    /// This money pays the order.
    fn pay_with(&mut self, report: &PaymentReport, at: Millis) {
        let attempt = self
            .attempts
            .entry(report.payment_id.clone())
            .or_insert_with(|| Attempt::new(report, at));
        attempt.counted = true;
        self.strays.remove(&report.payment_id);
        self.captured = Some((report.payment_id.clone(), report.at.unwrap_or(at)));
        self.paid = report.parts(self.contents.bill.total);
        let target = self.terms().on_captured;
        if self.fulfilment == Fulfilment::Pending {
            self.fulfilment = target;
            self.paid_status = Some(target);
        }
        self.owe(MessageKey::Paid, at);
        if self.terms().receipt_message {
            self.owe(MessageKey::Receipt, at);
        }
    }

    /// What was held about a payment is explained.
    fn release(&mut self, hold: Hold, payment_id: &str) {
        let is_it = |held: Hold, id: &str| held == hold && id == payment_id;
        self.holds.retain(|(held, _, id)| !is_it(*held, id));
        self.held.retain(|(held, id)| !is_it(*held, id));
    }

    /// Each payment that needs a person counts, once.
    fn hold(&mut self, hold: Hold, payment_id: &str, at: Millis) {
        if self.held.insert((hold, payment_id.to_owned())) {
            self.holds.push((hold, at, payment_id.to_owned()));
        }
    }

    fn owe(&mut self, key: MessageKey, since: Millis) {
        if self.message(&key).is_none() {
            self.messages.push(Message::new(key, since));
        }
    }

    fn message_mut(&mut self, key: &MessageKey) -> Option<&mut Message> {
        self.messages.iter_mut().find(|m| &m.key == key)
    }

    fn apply_report(&mut self, key: &MessageKey, attempt: u32, report: &Report, at: Millis) {
        let Some(m) = self.message_mut(key) else {
            return;
        };
        match report {
            Report::Progress(progress) => {
                let reported = match progress {
                    Progress::Sent => MessageStatus::Sent,
                    Progress::Delivered => MessageStatus::Delivered,
                    Progress::Read => MessageStatus::Read,
                };
                // By rank: reports come in any order, and one attempt that arrived is enough. Having left the provider is
                // no arrival: it settles a try whose answer is out, and never revives or replaces anything.
                let lifts = match progress {
                    Progress::Sent => {
                        attempt == m.attempts
                            && matches!(m.status, MessageStatus::Sending | MessageStatus::Unknown)
                    }
                    Progress::Delivered | Progress::Read => {
                        rank(reported) > rank(m.status) || m.status == MessageStatus::Failed
                    }
                };
                if lifts {
                    m.status = reported;
                    m.sent_at = m.sent_at.or(Some(at));
                    m.again_at = None;
                    m.template_next = false;
                    m.sms_next = false;
                }
            }
            Report::Failed(failure) => {
                let current = attempt == m.attempts;
                let over = matches!(m.status, MessageStatus::Failed | MessageStatus::Skipped);
                if current && rank(m.status) <= rank(MessageStatus::Sent) && !over {
                    // The provider took it and failed later. Some of these failures are worth another try.
                    let wait = m.wait(failure.remedy, MIDDLE_JITTER);
                    m.fail(failure, wait.map(|seconds| at.plus_seconds(seconds.into())));
                    self.turn_to_sms(key, failure);
                }
            }
        }
    }

    /// When this message goes on by SMS, those after it do not try WhatsApp again.
    fn turn_to_sms(&mut self, key: &MessageKey, failure: &SendFailure) {
        if self.message(key).is_some_and(|m| m.sms_next) && self.turned_to_sms.is_none() {
            self.turned_to_sms = Some(failure.code.clone());
        }
    }

    /// When somebody must look at this order again although nothing was heard, or `None` when nothing is outstanding.
    #[must_use]
    pub fn next_check(&self, now: Millis) -> Option<Millis> {
        let messages = self
            .messages
            .iter()
            .filter(|m| !self.waits_for_bill(&m.key))
            .filter_map(|m| m.next_check(now));
        let refunds = self
            .refunds
            .list()
            .iter()
            .filter_map(|r| refund_check(r, now));
        let back = self
            .to_send_back()
            .map(|(_, s)| s.since.plus_seconds(SEND_BACK));
        let held = self.next_reminder();
        messages
            .chain(refunds)
            .chain(back)
            .chain(held)
            .chain(self.payment_check(now))
            .min()
    }

    /// When a person is to be reminded of what is held: daily for two weeks, then weekly.
    #[must_use]
    pub fn next_reminder(&self) -> Option<Millis> {
        // Held money that is on its way back needs no reminder.
        let waits = |id: &str| {
            self.refundable(id)
                .is_none_or(|all| self.refunds.reserved(Some(id)) < all)
        };
        let since = self
            .holds
            .iter()
            .filter(|(hold, _, id)| *hold == Hold::RefundMismatch || waits(id))
            .map(|(_, since, _)| *since)
            .min()?;
        let (count, last) = self.reminded;
        let step = if count < 14 { DAY } else { 7 * DAY };
        Some(
            last.map_or(since, |last| last.max(since))
                .plus_seconds(step),
        )
    }

    /// How often a person was reminded.
    #[must_use]
    pub fn reminders(&self) -> u32 {
        self.reminded.0
    }

    /// Refunds the gateway is to be asked about, or asked for again.
    pub fn refunds_due(&self, now: Millis) -> impl Iterator<Item = &Refund> {
        self.refunds.list().iter().filter(move |r| {
            // Whenever the order is looked at; how often that is stands in `refund_check`.
            let slow = r.id.is_some()
                && r.state == RefundState::Pending
                && now.seconds_since(r.tried_at) > DAY;
            slow || refund_check(r, now).is_some_and(|at| at <= now)
        })
    }

    /// When our own link is to be asked because a payment was spoken of before we could tell whose it is.
    fn hint_is_due(&self) -> Option<Millis> {
        let hinted_at = self.hinted_at?.max(self.contents.created_at);
        let since = self.started_at.map_or(hinted_at, |at| at.max(hinted_at));
        Some(since.plus_seconds(HINT_PATIENCE))
    }

    fn payment_check(&self, now: Millis) -> Option<Millis> {
        let status = self.payment_status();
        if !status.is_open() {
            // Banks turn failed payments into captured ones up to five days later (Razorpay, "Late authorisation").
            let (_, closed_at) = self.closed?;
            let last = closed_at.plus_seconds(LATE_WINDOW);
            let paid_late = self.strays.values().any(|s| s.hold == Hold::LatePayment);
            return (self.is_ready() && !paid_late && now < last)
                .then(|| spaced(closed_at, now, LATE_LOOKUP).min(last));
        }
        if !self.is_ready() {
            let since = self
                .events
                .last()
                .map_or(self.contents.created_at, |e| e.at);
            return Some(since.plus_seconds(START_PATIENCE));
        }
        let ends = self.expires_at().plus_seconds(EXPIRY_GRACE);
        let step = FIRST_LOOKUPS
            .get(usize::try_from(self.checks).unwrap_or(usize::MAX))
            .copied()
            .unwrap_or(LAST_LOOKUP);
        let from = if self.checks == 0 {
            self.contents.created_at
        } else {
            now
        };
        let regular = from.plus_seconds(step).min(ends);
        // One early look; after that a hint is no better than silence.
        let early = self
            .hint_is_due()
            .filter(|at| self.checks == 0 && now < at.plus_seconds(FIRST_LOOKUPS[0]));
        Some(early.map_or(regular, |early| early.min(regular)))
    }
}

/// What a shop may ask of one order: changes of fulfilment, re-sends and refunds in all. A till gone wild must not fill the item that
/// reports about money need room in.
pub const MOST_ASKS: usize = 100;
/// How many of these may be re-sends of the bill.
pub const MOST_RESENDS: u32 = 20;
/// From this size of bill and events in bytes on, the shop's asks are refused however few they were. DynamoDB takes 409,600.
const ASKS_END: usize = 300_000;
/// Without an `Idempotency-Key`, a re-send to the same number within this many seconds is the same one.
const SAME_RESEND: i64 = 60;

/// An order with so many events takes no more reports that tell of no money: attempts to pay that took nothing, and what became of a
/// message. Who tries cards on a link, or a provider that repeats itself, must not fill the item.
pub const MOST_REPORTED: usize = 600;
/// So many tries to send are made for one order in all.
pub const MOST_SENDINGS: usize = 300;

/// The order is looked at this long after creating its payment got stuck, in seconds.
const START_PATIENCE: i64 = 60;
/// Gateways are asked about an open payment after 5, then 10, 20 and 30 more minutes; after that hourly.
const FIRST_LOOKUPS: [i64; 4] = [300, 600, 1200, 1800];
/// Our own link is asked this long after somebody spoke of a payment and there is a link to ask, seconds.
const HINT_PATIENCE: i64 = 45;
/// Hourly.
const LAST_LOOKUP: i64 = 3600;
/// After the end: the webhook of a payment made in the last second gets two minutes before the order expires.
const EXPIRY_GRACE: i64 = 120;
/// How long money may still come for a closed order.
const LATE_WINDOW: i64 = 5 * 24 * 3600;
/// A closed order is looked up daily in that time.
const LATE_LOOKUP: i64 = 24 * 3600;
/// A refund whose answer is out: the call has ended or died by then, seconds.
pub const REFUND_PATIENCE: i64 = 120;
/// What the terms call the refund of a payment they send back.
#[must_use]
pub fn send_back_id(payment_id: &str) -> String {
    format!("{SEND_BACK_PREFIX}{payment_id}")
}

/// No shop's refund is called so.
pub const SEND_BACK_PREFIX: &str = "back-";

/// Money that the terms send back is sent back this long after it came, when no more news about it is on the way, seconds.
const SEND_BACK: i64 = 60;
/// A gateway takes what a bank has agreed to within minutes, or not at all: so long the page does not ask for another payment, seconds.
const CAPTURE_WINDOW: i64 = 15 * 60;
/// A day.
const DAY: i64 = 24 * 3600;
/// A queued message that nobody picked up is queued again after this, in seconds.
const QUEUE_PATIENCE: i64 = 120;
/// A planned retry that did not happen is queued again this long after its time.
const RETRY_PATIENCE: i64 = 600;
/// A try that neither ended nor was retried is looked at after this.
const SENDING_PATIENCE: i64 = 900;
/// A sent message whose delivery nobody reported is looked at for the last time after a day.
pub const REPORT_PATIENCE: i64 = 24 * 3600;

/// State is computed from events again and again, so this wait cannot be random.
const MIDDLE_JITTER: u32 = 0;

/// Whether the terms may send such money back.
const fn is_sent_back(hold: Hold) -> bool {
    matches!(hold, Hold::LatePayment | Hold::DoublePayment)
}

/// When a refund is to be looked at: what the gateway could not take after a minute, a lost answer after two, and twice as long
/// after each further try, at most six hours; what it works on after 15 minutes, and after a day every six hours. A dashboard's refund
/// is the dashboard's business.
fn refund_check(refund: &Refund, now: Millis) -> Option<Millis> {
    refund.id.as_ref()?;
    let further = refund.attempts.saturating_sub(1).min(12);
    let doubled = |first: i64| {
        first
            .saturating_mul(1_i64 << further)
            .min(LONGEST_REFUND_PAUSE)
    };
    let patience = match refund.state {
        RefundState::Processed | RefundState::Failed => return None,
        RefundState::Waiting => doubled(60),
        RefundState::Asking | RefundState::Unknown => doubled(REFUND_PATIENCE),
        RefundState::Pending if now.seconds_since(refund.tried_at) > DAY => {
            return Some(spaced(refund.tried_at, now, LONGEST_REFUND_PAUSE));
        }
        RefundState::Pending => 900,
    };
    Some(refund.tried_at.plus_seconds(patience))
}

/// Seconds.
const LONGEST_REFUND_PAUSE: i64 = 6 * 3600;

fn spaced(from: Millis, now: Millis, step: i64) -> Millis {
    let passed = now.seconds_since(from).max(0);
    let steps = passed.checked_div(step).unwrap_or(0).saturating_add(1);
    from.plus_seconds(steps.saturating_mul(step))
}

impl Message {
    /// Seconds until the next try after one more failure, or `None` when there is to be none. A message without pictures has nothing left
    /// to leave out.
    #[must_use]
    pub fn wait(&self, remedy: Remedy, jitter: u32) -> Option<u32> {
        let remedy = match remedy {
            Remedy::Media if self.bare => Remedy::GiveUp,
            remedy => remedy,
        };
        delivery::wait(self.failures.saturating_add(1), remedy, jitter)
    }

    fn fail(&mut self, failure: &SendFailure, again_at: Option<Millis>) {
        self.failure = Some(failure.clone());
        if failure.remedy == Remedy::Media {
            self.bare |= self.media_failed;
            self.media_failed = true;
        }
        let template = failure.remedy == Remedy::UseTemplate
            && self.form == Some(Form::Interactive)
            && self.fallback;
        if template {
            // Not a failure of the message: it goes on in the other form.
            self.template_next = true;
            self.window_closed = true;
            self.again_at = None;
            self.status = MessageStatus::Queued;
            return;
        }
        self.uncertain |= failure.remedy == Remedy::Unknown;
        if again_at.is_none() && self.sms && self.form != Some(Form::Sms) && !self.uncertain {
            // Given up on WhatsApp, and nothing of it can have arrived: never both. The SMS has the whole schedule to itself.
            self.sms_next = true;
            self.by_sms = true;
            self.failures = 0;
            self.again_at = None;
            self.status = MessageStatus::Queued;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.again_at = again_at;
        self.status = match again_at {
            Some(_) if failure.remedy == Remedy::Unknown => MessageStatus::Unknown,
            Some(_) => MessageStatus::Retrying,
            None => MessageStatus::Failed,
        };
    }

    /// Some try of it may be on the phone although nobody said so.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        self.uncertain
    }

    fn next_check(&self, now: Millis) -> Option<Millis> {
        match self.status {
            MessageStatus::Queued => {
                let since = if self.template_next || self.sms_next {
                    self.tried_at
                } else {
                    None
                };
                Some(since.unwrap_or(self.since).plus_seconds(QUEUE_PATIENCE))
            }
            MessageStatus::Sending => self.tried_at.map(|t| t.plus_seconds(SENDING_PATIENCE)),
            MessageStatus::Retrying | MessageStatus::Unknown => {
                self.again_at.map(|t| t.plus_seconds(RETRY_PATIENCE))
            }
            MessageStatus::Sent => self
                .sent_at
                .map(|t| t.plus_seconds(REPORT_PATIENCE))
                .filter(|last| now < *last),
            MessageStatus::Delivered
            | MessageStatus::Read
            | MessageStatus::Failed
            | MessageStatus::Skipped => None,
        }
    }
}

/// Reports raise a message's state, never lower it.
const fn rank(status: MessageStatus) -> u8 {
    match status {
        MessageStatus::Queued
        | MessageStatus::Sending
        | MessageStatus::Retrying
        | MessageStatus::Unknown
        | MessageStatus::Skipped => 0,
        MessageStatus::Sent | MessageStatus::Failed => 1,
        MessageStatus::Delivered => 2,
        MessageStatus::Read => 3,
    }
}
