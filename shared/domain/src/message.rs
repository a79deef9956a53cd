//! What we want to tell a customer, before any provider's spelling.

use serde::{Deserialize, Serialize};

use crate::bill::Bill;
use crate::contact::Msisdn;
use crate::ids::{ReferenceId, TenantId};
use crate::money::Paise;
use crate::payment::PaymentMode;
use crate::time::Millis;

/// Names one message an order owes its customer: `invoice.1`, `paid`, `receipt`, `status.2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MessageKey {
    /// The bill; the number counts re-sends from 1.
    Invoice(u32),
    /// Payment was captured.
    Paid,
    /// The link to the receipt as a message of its own (a template, when the tenant has one).
    Receipt,
    /// The n-th change of fulfilment.
    Status(u32),
    /// An attempt to pay failed and the bill is still open. SMS only: in WhatsApp and on the gateway's page the customer sees it.
    Failed,
    /// The n-th refund went back.
    Refund(u32),
}

/// A text is not a message's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message key")]
pub struct InvalidMessageKey;

impl MessageKey {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Self, InvalidMessageKey> {
        let number = |t: &str| {
            t.parse::<u32>()
                .ok()
                .filter(|n| *n > 0 && n.to_string() == t)
        };
        match text.split_once('.') {
            None if text == "paid" => Ok(Self::Paid),
            None if text == "receipt" => Ok(Self::Receipt),
            None if text == "failed" => Ok(Self::Failed),
            Some(("invoice", n)) => number(n).map(Self::Invoice).ok_or(InvalidMessageKey),
            Some(("status", n)) => number(n).map(Self::Status).ok_or(InvalidMessageKey),
            Some(("refund", n)) => number(n).map(Self::Refund).ok_or(InvalidMessageKey),
            _ => Err(InvalidMessageKey),
        }
    }
}

/// Messages of one order that keep their sequence even while one of them waits for its next try. Between lines, news never wait for a
/// retry: a customer who has paid is told so, whatever became of the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// One sending of the bill; a later one replaces it.
    Bill(u32),
    /// That it is paid, and the receipt.
    Paid,
    /// How the order goes on.
    Status,
    /// Money that went back.
    Refund,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bill(n) => write!(f, "bill.{n}"),
            Self::Paid => f.write_str("paid"),
            Self::Status => f.write_str("status"),
            Self::Refund => f.write_str("refund"),
        }
    }
}

impl MessageKey {
    /// Its line.
    #[must_use]
    pub const fn line(&self) -> Line {
        match self {
            Self::Invoice(n) => Line::Bill(*n),
            Self::Paid | Self::Receipt => Line::Paid,
            Self::Status(_) | Self::Failed => Line::Status,
            Self::Refund(_) => Line::Refund,
        }
    }
}

impl std::fmt::Display for MessageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invoice(n) => write!(f, "invoice.{n}"),
            Self::Paid => f.write_str("paid"),
            Self::Receipt => f.write_str("receipt"),
            Self::Failed => f.write_str("failed"),
            Self::Refund(n) => write!(f, "refund.{n}"),
            Self::Status(n) => write!(f, "status.{n}"),
        }
    }
}

impl TryFrom<String> for MessageKey {
    type Error = InvalidMessageKey;
    fn try_from(text: String) -> Result<Self, InvalidMessageKey> {
        Self::parse(&text)
    }
}

impl From<MessageKey> for String {
    fn from(key: MessageKey) -> String {
        key.to_string()
    }
}

/// How a message goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Free form; only inside the customer's 24-hour window.
    Interactive,
    /// An approved template; always allowed.
    Template,
    /// An SMS, because the tenant's channel is SMS or because WhatsApp has definitely failed.
    Sms,
}

/// A template of the tenant's WhatsApp account, and what fills its body's variables in order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Name as registered.
    pub name: String,
    /// Language code as registered, e.g. `en` or `en_US`.
    pub language: String,
    /// Which values fill `{{1}}`, `{{2}}` … of the body; none when the body has no variables.
    #[serde(default)]
    pub parameters: Vec<Variable>,
    /// Its header is a picture, video or document, and the bill's fills it. Without this a bill's header is left out, because
    /// WhatsApp refuses one that the template has no place for.
    #[serde(default)]
    pub media_header: bool,
    /// The https link of a picture that takes the place of a header which WhatsApp could not fetch; for templates with a picture's header.
    #[serde(default)]
    pub standard_picture: Option<String>,
}

/// A value a template's body can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// The shop's display name.
    Shop,
    /// The customer's name, or "customer".
    CustomerName,
    /// The bill number.
    ReferenceId,
    /// The total, e.g. `Rs. 840.00`.
    Amount,
    /// The receipt page.
    ReceiptUrl,
    /// The gateway's payment id, or a dash.
    PaymentId,
    /// The fulfilment status in words.
    Status,
}

/// Fulfilment of an order, in WhatsApp's words (`canceled` with one l, `partially_shipped` with an underscore).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fulfilment {
    /// Nothing done yet. Cannot be sent to WhatsApp.
    Pending,
    /// Being prepared.
    Processing,
    /// Some of it is on its way.
    PartiallyShipped,
    /// All of it is on its way.
    Shipped,
    /// Done. Final.
    Completed,
    /// Called off. Final, and only while unpaid.
    Canceled,
}

impl Fulfilment {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::PartiallyShipped => "partially_shipped",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether WhatsApp allows going from here to `next` (Meta, "Receive payments", order status: start pending; processing,
    /// shipped and partially_shipped freely among each other; completed and canceled are final).
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use Fulfilment::{Canceled, Completed, PartiallyShipped, Pending, Processing, Shipped};
        match (self, next) {
            (Completed | Canceled, _) | (_, Pending) => false,
            (Pending, _) | (_, Completed | Canceled) => true,
            (Processing, Processing)
            | (PartiallyShipped, PartiallyShipped)
            | (Shipped, Shipped) => false,
            (Processing | PartiallyShipped | Shipped, Processing | PartiallyShipped | Shipped) => {
                true
            }
        }
    }
}

/// What a message says.
#[derive(Debug, Clone)]
pub enum Content<'a> {
    /// Please pay: `order_details`.
    Invoice {
        /// How it can be paid.
        payment: Checkout<'a>,
    },
    /// The order changed: `order_status`.
    Status {
        /// Its new status.
        status: Fulfilment,
        /// Shown on the order page; at most 120 characters.
        description: Option<&'a str>,
        /// What the bubble says.
        text: String,
    },
    /// The link to the receipt, as text or template.
    Receipt {
        /// What the bubble says.
        text: String,
    },
    /// An attempt to pay failed, as text.
    Failed {
        /// What it says.
        text: String,
    },
    /// Money went back, as text or template.
    Refund {
        /// How much.
        amount: Paise,
        /// What the bubble says.
        text: String,
    },
}

/// The code a customer can scan to pay, for the header of a bill.
#[derive(Debug, Clone)]
pub enum QrCode<'a> {
    /// Where the provider can fetch it.
    Link(String),
    /// The picture itself, for providers that take uploads.
    Png(&'a [u8]),
}

/// How an invoice can be paid.
#[derive(Debug, Clone)]
pub enum Checkout<'a> {
    /// Through the WhatsApp payment configuration of this name, at this gateway.
    Configuration {
        /// Gateway's name.
        gateway: &'a str,
        /// The configuration's name in WhatsApp Manager.
        name: &'a str,
    },
    /// Through a link.
    Link {
        /// The link.
        url: &'a str,
    },
    /// Through a UPI intent.
    Intent {
        /// `upi://pay?…`
        uri: &'a str,
    },
}

/// Everything a channel needs to send one message.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    /// To whom.
    pub to: &'a Msisdn,
    /// The message's reference at the provider: the bill number, with a sequence number when it is sent again.
    pub reference: &'a ReferenceId,
    /// Comes back in delivery reports so that they find their order; see [`Tag`].
    pub tag: &'a Tag,
    /// The bill.
    pub bill: &'a Bill,
    /// When the message is sent.
    pub now: Millis,
    /// When the bill ends.
    pub expires_at: Millis,
    /// The mode it is paid in.
    pub mode: PaymentMode,
    /// The shop's name.
    pub shop: &'a str,
    /// The receipt page.
    pub receipt_url: &'a str,
    /// What stands before `/webhooks/…` in the addresses providers report to.
    pub callback_base: &'a str,
    /// The gateway's payment id once captured.
    pub payment_id: Option<&'a str>,
    /// What the customer paid, once paid: the bill's total, a fee on top, an offer taken off, or another sum the shop accepted.
    pub received: Option<Paise>,
    /// What it says.
    pub content: Content<'a>,
    /// In which form.
    pub form: Form,
    /// The template, when that is the form.
    pub template: Option<&'a Template>,
    /// What heads a bill that brings no header of its own, when the tenant wants that.
    pub qr: Option<QrCode<'a>>,
    /// Its pictures failed twice: it goes out without them.
    pub bare: bool,
}

impl Outgoing<'_> {
    /// The sum the message is about: what was refunded, what was paid, or what is to be paid.
    #[must_use]
    pub fn amount(&self) -> Paise {
        match &self.content {
            Content::Refund { amount, .. } => *amount,
            Content::Receipt { .. } | Content::Status { .. } => {
                self.received.unwrap_or(self.bill.total)
            }
            Content::Invoice { .. } | Content::Failed { .. } => self.bill.total,
        }
    }

    /// The text that fills one variable of a template.
    #[must_use]
    pub fn variable(&self, variable: Variable) -> String {
        match variable {
            Variable::Shop => steady(self.shop),
            Variable::CustomerName => {
                let name = self.bill.customer.name.as_deref().map(steady);
                name.filter(|name| !name.trim().is_empty())
                    .unwrap_or_else(|| "customer".to_owned())
            }
            Variable::ReferenceId => self.bill.reference.to_string(),
            Variable::Amount => format!("Rs. {}", self.amount().decimal()),
            Variable::ReceiptUrl => self.receipt_url.to_owned(),
            Variable::PaymentId => self.payment_id.unwrap_or("-").to_owned(),
            Variable::Status => match &self.content {
                Content::Status { status, .. } => status.as_str().replace('_', " "),
                Content::Invoice { .. } => "pending".to_owned(),
                Content::Receipt { .. } => "paid".to_owned(),
                Content::Failed { .. } => "not paid".to_owned(),
                Content::Refund { .. } => "refunded".to_owned(),
            },
        }
    }
}

/// Embeddings, overrides, isolates and their ends (Unicode Annex 9). In a name they would change how an amount next to it reads; an
/// end without a beginning would leave the element it is in.
#[must_use]
pub const fn reorders(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// A name that leaves what stands beside it where it is.
fn steady(name: &str) -> String {
    name.chars().filter(|c| !reorders(*c)).collect()
}

/// What travels with a message and comes back with its reports: which order, which message, which attempt.
/// Written as `1:<reference_id>:<message>:<attempt>`; the tenant is in the webhook's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The order.
    pub reference: ReferenceId,
    /// The message.
    pub message: MessageKey,
    /// Which attempt, from 1.
    pub attempt: u32,
}

impl Tag {
    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (version, reference, message, attempt) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "1" || parts.next().is_some() {
            return None;
        }
        Some(Self {
            reference: ReferenceId::parse(reference).ok()?,
            message: MessageKey::parse(message).ok()?,
            // One spelling, as in a message's name: `00` and `+1` are nothing that we wrote.
            attempt: attempt
                .parse()
                .ok()
                .filter(|n: &u32| n.to_string() == attempt)?,
        })
    }
}

impl Tag {
    /// The tag with its tenant behind it, for providers whose reports may come to another tenant's address: one app of Meta's can serve
    /// several numbers.
    #[must_use]
    pub fn named(&self, tenant: &TenantId) -> String {
        format!("{self}:{tenant}")
    }

    /// Reads what [`Self::named`] writes, and tags without a tenant.
    #[must_use]
    pub fn parse_named(text: &str) -> Option<(Self, Option<TenantId>)> {
        if let Some(tag) = Self::parse(text) {
            return Some((tag, None));
        }
        let (tag, tenant) = text.rsplit_once(':')?;
        Some((Self::parse(tag)?, Some(TenantId::parse(tenant).ok()?)))
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1:{}:{}:{}", self.reference, self.message, self.attempt)
    }
}

/// How far a message got, as its provider reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Left the provider.
    Sent,
    /// On the phone.
    Delivered,
    /// Seen.
    Read,
}

/// A delivery report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It got this far.
    Progress(Progress),
    /// It failed.
    Failed(SendFailure),
}

/// Why a message could not be sent, and what that means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendFailure {
    /// What to do about it.
    #[serde(rename = "d")]
    pub remedy: Remedy,
    /// The provider's code, e.g. `131047`.
    #[serde(rename = "c")]
    pub code: String,
    /// The provider's words, cut, without phone numbers.
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Try again on the published schedule.
    Retry,
    /// Try again, not before this many seconds.
    RetryAfter(u32),
    /// The pair rate (131056): wait 4^n seconds, n the number of tries so far.
    RetryPair,
    /// Try once more, then give up.
    RetryOnce,
    /// A picture, video or document of the message could not be fetched or is of the wrong kind: try once more as it is, then without.
    Media,
    /// The sender is over its rate: nothing of it goes out for this many seconds, then this message is tried again.
    Throttled(u32),
    /// The 24-hour window is closed: send the template, once.
    UseTemplate,
    /// Nothing will help for this customer on this channel.
    GiveUp,
    /// The account is broken; nothing will be sent until a person acts.
    Alert,
    /// Nobody knows whether it went out.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_turn_what_stands_beside_it() {
        assert_eq!(steady("a\u{202E}00.1\u{202C} \u{2066}x\u{2069}"), "a00.1 x");
        // What shapes letters and directs neighbours only stays: scripts need it.
        for name in ["क\u{200D}ष", "שוקולד\u{200F}", "पल्लवी", "<b>"] {
            assert_eq!(steady(name), name);
        }
    }

    #[test]
    fn a_tag_has_one_spelling() {
        let text = "1:BM345A-12:invoice.2:3";
        assert_eq!(Tag::parse(text).unwrap().to_string(), text);
        let (tag, tenant) = (Tag::parse(text).unwrap(), TenantId::parse("acme").unwrap());
        assert_eq!(tag.named(&tenant), "1:BM345A-12:invoice.2:3:acme");
        assert_eq!(Tag::parse_named(text), Some((tag.clone(), None)));
        assert_eq!(
            Tag::parse_named(&tag.named(&tenant)),
            Some((tag, Some(tenant)))
        );
        for other in [
            "1:BM345A-12:invoice.2:3:",
            "1:BM345A-12:invoice.2:3:a:b",
            "acme",
        ] {
            assert_eq!(Tag::parse_named(other), None, "{other}");
        }
        // Found by fuzzing.
        for other in [
            "1:BM345A-12:paid:00",
            "1:BM345A-12:paid:+1",
            "1:BM345A-12:paid:01",
        ] {
            assert_eq!(Tag::parse(other), None, "{other}");
        }
    }
}
