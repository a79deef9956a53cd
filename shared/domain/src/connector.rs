//! What a payment gateway and a messaging provider must be able to do. There are no default bodies: forgetting to verify a
//! webhook is a compile error, not an open door.

use crate::bill::Bill;
use crate::contact::Msisdn;
use crate::fault::Fault;
use crate::http::{Answer, Step};
use crate::ids::{ReferenceId, TenantId, UserId};
use crate::message::{Outgoing, Report, Tag};
use crate::order::Terms;
use crate::payment::{
    Canceled, Closed, Found, LookupRequest, PayForm, PaymentMode, PaymentReport, PaymentRequest,
    RefundReport, RefundRequest, Started,
};
use crate::time::Millis;
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
        /// Whether it may be applied as it stands.
        trust: Trust,
    },
    /// Something about a refund.
    Refund {
        /// The order, as the sender knows it.
        reference: ReferenceId,
        /// What it says.
        report: RefundReport,
        /// Whether it may be applied as it stands.
        trust: Trust,
    },
    /// The customer wrote to the shop: for 24 hours free-form messages reach them.
    Inbound {
        /// Who wrote.
        phone: Msisdn,
        /// When, where the sender says so; else the moment of its webhook has to do.
        at: Option<Millis>,
        /// The customer asked not to be written to any more, or to be written to again.
        wish: Option<Wish>,
    },
    /// The same of a customer whose number the provider hides.
    InboundHidden {
        /// Who wrote, as the provider names them.
        user: UserId,
        /// When, where the sender says so.
        at: Option<Millis>,
        /// The customer asked not to be written to any more, or to be written to again.
        wish: Option<Wish>,
    },
    /// The provider gave a customer another id.
    Renamed {
        /// The id until now.
        before: UserId,
        /// The id from now on.
        now: UserId,
    },
    /// A delivery report.
    Message {
        /// Which message of which order.
        tag: Tag,
        /// What it says.
        report: Report,
        /// The customer, as the provider names them beside their number or instead of it.
        user: Option<UserId>,
    },
    /// About another number of the same account, and so perhaps about another tenant's order.
    Elsewhere {
        /// The tenant that the report's tag names. Only that tenant's own document can say whether the sender is its provider.
        tenant: Option<TenantId>,
        /// What it is, for the log.
        what: &'static str,
    },
    /// Understood, and of no consequence to an order; the text goes to the log.
    Ignored(String),
    /// About somebody else's payments: it names another tenant, or nothing of ours. Counted, and nothing else.
    Foreign(String),
    /// Of no consequence to an order that we know of, but somebody should hear of it: counted under its own name.
    Noticed(Notice, String),
}

/// What is counted although nothing can be done about it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A delivery report with a word and a code that we do not know.
    DeliveryWord,
    /// A part of a genuine webhook that cannot be read; its neighbours were.
    Unreadable,
    /// A customer asked for messages to stop, or to start again, and nothing says who they are.
    WishUnplaced,
}

/// Whether a signal may change money. One gateway account can serve several merchants, and its dashboard makes links too; so a
/// signature says that money moved, not whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Signed by the gateway that holds the money, and carrying a proof or mark of ours that names this tenant and this order
    /// ([`crate::proof`]).
    Proven,
    /// Signed, and about the gateway's link or transaction with this id. It counts for the order that was given this id, and is a
    /// hint about any other.
    OwnLink(String),
    /// Anything else: the holder of the money is asked about our own link before the order changes.
    Hint,
}

/// What a customer asked for by a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// No more messages of this shop.
    OptOut,
    /// Messages again.
    OptIn,
}

/// Receives webhooks. Implemented by gateways and messaging providers alike.
pub trait Webhooks: Send + Sync {
    /// The sender as it stands in the URL: `/webhooks/<name>/<tenant>`.
    fn name(&self) -> &'static str;

    /// Checks the signature over the exact bytes.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused>;

    /// Reads what was verified. Callers go through [`signals`].
    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable>;

    /// The body the sender wants to see with a 200.
    fn acknowledgement(&self) -> &'static str;

    /// The challenge of a verification, if this is one and the token is right: a GET at Meta, a POST of its own at Exotel.
    fn challenge(&self, raw: &RawWebhook) -> Option<String>;
}

/// Reads a webhook and believes no more of it than its sender proved: what is unsigned gives hints and nothing else, whatever the
/// connector makes of it. This is the way from a webhook to its signals.
pub fn signals(
    sender: &dyn Webhooks,
    webhook: &VerifiedWebhook,
) -> Result<Vec<Signal>, Unreadable> {
    let mut signals = sender.read(webhook)?;
    if !webhook.is_signed() {
        for signal in &mut signals {
            match signal {
                Signal::Payment { trust, .. } | Signal::Refund { trust, .. } => {
                    *trust = Trust::Hint;
                }
                Signal::LinkClosed { .. }
                | Signal::Inbound { .. }
                | Signal::InboundHidden { .. }
                | Signal::Renamed { .. }
                | Signal::Message { .. }
                | Signal::Elsewhere { .. }
                | Signal::Noticed(..) => {
                    *signal = Signal::Ignored("an unsigned webhook cannot say that".to_owned());
                }
                Signal::Ignored(_) | Signal::Foreign(_) => {}
            }
        }
    }
    Ok(signals)
}

/// A payment gateway: builds calls, reads answers, no I/O. Each operation is a conversation, see [`Step`].
pub trait Gateway: Webhooks {
    /// What this gateway calls an order of this reference: the reference itself, or a spelling of it that the gateway takes.
    /// Always the same for the same tenant and reference. When it differs, it is reserved as another name of the order, so that
    /// webhooks which know only this name find their order.
    fn order_id(&self, reference: &ReferenceId) -> ReferenceId;

    /// What this gateway could not collect in this mode, as faults of the bill. `expires_in` is in seconds.
    fn check(&self, bill: &Bill, mode: PaymentMode, expires_in: i64) -> Vec<Fault>;

    /// Makes a payment link or an intent.
    fn start(&self, request: &PaymentRequest, answers: &[Answer]) -> Step<Started>;

    /// Asks what became of a payment.
    fn lookup(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Found>;

    /// Makes sure no more money can come.
    fn cancel(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Canceled>;

    /// The form our pay page posts to the gateway, for gateways whose payment cannot be a link.
    fn pay_form(&self, request: &PaymentRequest, started: &Started) -> Option<PayForm>;

    /// What this gateway would refuse about a refund, known before it is asked.
    fn check_refund(&self, request: &RefundRequest) -> Vec<Fault>;

    /// Gives money back. Asked again with the same request, it must not give it twice: where the gateway has no idempotency
    /// device, a lost answer ends as [`crate::http::CallError::Unknown`].
    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport>;

    /// Asks what became of a refund. `None`: the gateway knows of none, so it may be asked for again.
    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>>;
}

/// One of a tenant's gateway accounts.
pub struct GatewayAccount {
    /// [`crate::tenant::Account::mark`].
    pub mark: Option<String>,
    /// How its bills are paid.
    pub mode: PaymentMode,
    /// The connector.
    pub gateway: Box<dyn Gateway>,
}

/// A tenant's gateway accounts: the one its bills go to now, and those they went to before. An order stays with the account it was
/// made with, whatever the tenant does later.
pub struct Gateways {
    current: GatewayAccount,
    previous: Vec<GatewayAccount>,
}

impl Gateways {
    /// The current account and the earlier ones, latest first.
    #[must_use]
    pub fn new(current: GatewayAccount, previous: Vec<GatewayAccount>) -> Self {
        Self { current, previous }
    }

    /// Where bills go now.
    #[must_use]
    pub fn current(&self) -> &dyn Gateway {
        self.current.gateway.as_ref()
    }

    /// Every account at this gateway, the current one first.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &dyn Gateway> {
        self.at(name).map(|account| account.gateway.as_ref())
    }

    /// The account an order was made with. One that does not say, or whose account's name is not among the tenant's any more (a key
    /// that was made anew), is looked for where it is most likely: at the latest account of its gateway.
    #[must_use]
    pub fn of(&self, terms: &Terms) -> Option<&dyn Gateway> {
        let same =
            |account: &&GatewayAccount| terms.account.is_some() && account.mark == terms.account;
        // The same account can stand there twice, for bills of another mode.
        let exact = |account: &&GatewayAccount| same(account) && account.mode == terms.mode;
        self.at(&terms.gateway)
            .find(exact)
            .or_else(|| self.at(&terms.gateway).find(same))
            .or_else(|| self.at(&terms.gateway).next())
            .map(|account| account.gateway.as_ref())
    }

    fn at(&self, name: &str) -> impl Iterator<Item = &GatewayAccount> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .filter(move |account| account.gateway.name() == name)
    }
}

/// A messaging provider.
pub trait Channel: Webhooks {
    /// Sends one message; gives the provider's id of it.
    fn send(&self, message: &Outgoing<'_>, answers: &[Answer]) -> SendStep;

    /// Asks about a payment made natively inside WhatsApp.
    fn lookup_payment(&self, reference: &ReferenceId, answers: &[Answer]) -> Step<Found>;

    /// How many messages a second one sender may send, where the provider documents it.
    fn rate(&self) -> Option<u32>;

    /// This provider documents a call that gives money of native payments back. The same for every account.
    fn gives_back(&self) -> bool;

    /// What this provider would refuse about a refund of a native payment, known before it is asked.
    fn check_refund(&self, request: &RefundRequest) -> Vec<Fault>;

    /// Gives money of a native payment back; as [`Gateway::refund`].
    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport>;

    /// Asks what became of a refund of a native payment; as [`Gateway::lookup_refund`].
    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>>;

    /// Asks the vendor whether what the tenant's document names exists there and is ready: its WhatsApp payment configuration.
    /// Used by the `check --live` command; gives faults that point into the document.
    fn check_account(&self, answers: &[Answer]) -> Step<Vec<Fault>>;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Paise;
    use crate::payment::{AttemptStatus, RefundStatus};

    /// A careless connector: it believes everything it reads.
    struct Careless(Vec<Signal>);

    impl Webhooks for Careless {
        fn name(&self) -> &'static str {
            "careless"
        }
        fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
            VerifiedWebhook::unsigned(raw, Some(&"0123456789abcdef".into()))
        }
        fn read(&self, _webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
            Ok(self.0.clone())
        }
        fn acknowledgement(&self) -> &'static str {
            ""
        }
        fn challenge(&self, _raw: &RawWebhook) -> Option<String> {
            None
        }
    }

    #[test]
    fn an_unsigned_webhook_gives_hints_whatever_the_connector_says() {
        let reference = ReferenceId::parse("BM345A-12").unwrap();
        let payment = |trust| Signal::Payment {
            reference: reference.clone(),
            report: PaymentReport {
                paid_in_full: None,
                fee: None,
                offer: None,
                status: AttemptStatus::Captured,
                payment_id: "1".into(),
                amount: Paise::new(100).unwrap(),
                currency: "INR".into(),
                method: None,
                error: None,
                at: None,
            },
            trust,
        };
        let refund = |trust| Signal::Refund {
            reference: reference.clone(),
            report: RefundReport {
                status: RefundStatus::Processed,
                id: None,
                name: None,
                payment_id: "1".into(),
                amount: Paise::new(100).unwrap(),
                speed: None,
                bank_reference: None,
                error: None,
                at: None,
            },
            trust,
        };
        let closed = Signal::LinkClosed {
            reference: reference.clone(),
            reason: Closed::Canceled,
            trust: Trust::Proven,
        };
        let sender = Careless(vec![
            payment(Trust::Proven),
            refund(Trust::Proven),
            payment(Trust::OwnLink("plink_1".into())),
            closed.clone(),
        ]);
        let raw = || RawWebhook {
            headers: vec![],
            query: vec![("token".into(), "0123456789abcdef".into())],
            body: vec![],
        };
        let unsigned = sender.verify(raw()).unwrap();
        let heard = signals(&sender, &unsigned).unwrap();
        assert_eq!(
            heard.get(..3),
            Some(
                &[
                    payment(Trust::Hint),
                    refund(Trust::Hint),
                    payment(Trust::Hint)
                ][..]
            )
        );
        assert!(matches!(heard.last(), Some(Signal::Ignored(_))));

        let proof = crate::signature::same_bytes(b"a", b"a").unwrap();
        let signed = VerifiedWebhook::new(raw(), proof);
        assert_eq!(
            signals(&sender, &signed).unwrap(),
            [
                payment(Trust::Proven),
                refund(Trust::Proven),
                payment(Trust::OwnLink("plink_1".into())),
                closed
            ]
        );
    }
}
