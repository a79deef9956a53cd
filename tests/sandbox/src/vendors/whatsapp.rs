//! WhatsApp as Meta and its resellers have it in common: what messages carry, the orders on customers' phones, the 24-hour
//! window, payments inside WhatsApp and their refunds.
//!
//! Written from Meta's pages "Payments API - India" (copies of October 2025 to May 2026). How a vendor takes messages,
//! words its errors and reports back is its own business.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::order_details::{self, Leniency, Order, Payment};
use super::{Act, Outcome, Refused, wanted};
use crate::desk::{Desk, Mirror};
use crate::strict::{Fields, Problem};

/// "Customer service window": 24 hours from the customer's last message.
const WINDOW: i64 = 24 * 60 * 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum Strictness {
    #[default]
    Lenient,
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefundsEnd {
    #[default]
    Processed,
    Pending,
    Failed,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Configuration {
    pub(super) configuration_name: String,
    pub(super) provider_name: String,
    #[serde(default)]
    pub(super) provider_mid: Option<String>,
    #[serde(default)]
    pub(super) merchant_vpa: Option<String>,
    #[serde(default = "active")]
    pub(super) status: String,
    /// The sandbox's own account of the gateway where these payments show as well, e.g. a Razorpay key id.
    #[serde(default)]
    pub(super) gateway_account: Option<String>,
}

fn active() -> String {
    "Active".to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TemplateKind {
    OrderDetails,
    OrderStatus,
    Body,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    pub(super) name: String,
    pub(super) language: String,
    pub(super) kind: TemplateKind,
    /// Variables of the body.
    #[serde(default)]
    pub(super) variables: usize,
    /// `text`, `image`, `video` or `document`, when the header has a variable.
    #[serde(default)]
    pub(super) header: Option<String>,
    /// Whether it has a button whose URL ends in a variable.
    #[serde(default)]
    pub(super) url_button: bool,
    /// `APPROVED`, `PENDING`, `REJECTED`, `PAUSED` or `DISABLED`.
    #[serde(default = "approved")]
    pub(super) status: String,
}

fn approved() -> String {
    "APPROVED".to_owned()
}

/// The default where being strict is the rule.
pub(super) fn strict() -> Strictness {
    Strictness::Strict
}

/// One attempt of a customer to pay inside WhatsApp.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) pg_id: String,
    pub(super) gateway: String,
    pub(super) status: &'static str,
    pub(super) method: String,
    pub(super) amount: i64,
    pub(super) at: i64,
    pub(super) error: Option<Value>,
    pub(super) refunds: Vec<Refund>,
}

#[derive(Debug, Clone)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) speed: String,
    /// In the words of the refund call: pending, completed, failed.
    pub(super) status: &'static str,
    pub(super) at: i64,
}

/// An order a customer has on the phone.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) order: Order,
    pub(super) account: String,
    pub(super) to: String,
    pub(super) status: String,
    pub(super) transactions: Vec<Transaction>,
}

impl Placed {
    pub(super) fn captured(&self) -> Option<&Transaction> {
        self.transactions
            .iter()
            .find(|transaction| transaction.status == "success")
    }

    pub(super) fn extras(&self) -> Map<String, Value> {
        match &self.order.payment {
            Payment::Gateway { extras, .. } => extras.clone(),
            _ => Map::new(),
        }
    }
}

/// What a caller did wrong, in Meta's numbers: every reseller hears them from Meta and passes them on in its own way.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) details: String,
}

impl Refusal {
    pub(super) fn new(code: i64, details: impl Into<String>) -> Self {
        Self {
            code,
            details: details.into(),
        }
    }
}

impl From<Problem> for Refusal {
    /// "Error codes": 131008 a required parameter is missing, 131009 a value is not valid, 100 unsupported or misspelled
    /// parameters (and, seen in practice, wrong JSON types).
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Unknown { path } => Self::new(100, format!("Unexpected key \"{path}\"")),
            Problem::Missing { path } => Self::new(131_008, format!("{path} is required")),
            Problem::Type { path, wanted } => Self::new(100, format!("{path} must be {wanted}")),
            Problem::Value { path, why } => Self::new(131_009, format!("{path} {why}")),
        }
    }
}

pub(super) fn digits_of(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

/// The number Meta sends to. "Phone number formats": without country code the business's own is put in front.
pub(super) fn wa_id(to: &str) -> Result<String, Refusal> {
    let allowed = to
        .chars()
        .all(|character| character.is_ascii_digit() || "+-() ".contains(character));
    let digits = digits_of(to);
    if !allowed || !(7..=15).contains(&digits.len()) {
        return Err(Refusal::new(131_009, "to is not a valid phone number"));
    }
    if !to.starts_with('+') && digits.len() <= 10 {
        return Ok(format!("91{digits}"));
    }
    Ok(digits)
}

/// Which kind of message this is, as far as that can be seen before it is checked.
pub(super) fn message_operation(message: &Value) -> &'static str {
    let text = |pointer: &str| {
        message
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match (text("/type"), text("/interactive/type")) {
        ("interactive", "order_details") | ("order_details", _) => "send_message.order_details",
        ("interactive", "order_status") => "send_message.order_status",
        ("template", _) => {
            let has = |wanted: &str| {
                message
                    .pointer("/template/components")
                    .and_then(Value::as_array)
                    .is_some_and(|components| {
                        components.iter().any(|component| {
                            component.get("type").and_then(Value::as_str) == Some(wanted)
                                || component.get("sub_type").and_then(Value::as_str) == Some(wanted)
                        })
                    })
            };
            if has("order_details") {
                "send_message.template_order_details"
            } else if has("order_status") {
                "send_message.template_order_status"
            } else {
                "send_message.template_body"
            }
        }
        ("text", _) => "send_message.text",
        ("image", _) => "send_message.image",
        _ => "send_message.other",
    }
}

/// The same without what all of them have in front.
pub(super) fn message_kind(message: &Value) -> &'static str {
    message_operation(message)
        .strip_prefix("send_message.")
        .unwrap_or_default()
}

/// What a message carries, once it is known to be right.
#[derive(Debug)]
pub(super) enum Content {
    Order(Order),
    Status {
        reference_id: String,
        status: String,
    },
    Plain,
}

/// By business and reference: "unique per order_details message" of a business.
pub(super) type Key = (String, String);

/// What came of a customer's tap on Pay.
#[derive(Debug)]
pub(super) enum Tapped {
    /// An attempt to pay inside WhatsApp, successful or not.
    Attempted(Key, Value),
    /// It leads out of WhatsApp, or gives no signal.
    Elsewhere(Outcome),
}

/// What a refund can be refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRefund {
    /// No payment of that reference and configuration.
    Unknown,
    /// More than what is left of the payment.
    TooMuch,
}

/// Why an SMS does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSms {
    /// The phone is off.
    Off,
    /// It is on the do-not-disturb list, and the message is an advertisement.
    Undisturbed,
}

/// The customers' phones, as one vendor's messages reach them.
#[derive(Debug, Default)]
pub(super) struct Phones {
    /// Orders.
    pub(super) orders: BTreeMap<Key, Placed>,
    /// Until when a customer's window is open, by the business's number and customer.
    windows: HashMap<(String, String), i64>,
    unreachable: HashSet<String>,
    /// Switched off, for SMS.
    off: HashSet<String>,
    /// On the do-not-disturb list.
    undisturbed: HashSet<String>,
}

impl Phones {
    /// A customer writes: the window opens for 24 hours.
    pub(super) fn open_window(&mut self, number: &str, customer: &str, now: i64) -> i64 {
        let until = now.saturating_add(WINDOW);
        self.windows
            .insert((number.to_owned(), customer.to_owned()), until);
        until
    }

    /// Whether free-form messages reach a customer.
    pub(super) fn is_open(&self, number: &str, customer: &str, now: i64) -> bool {
        self.windows
            .get(&(number.to_owned(), customer.to_owned()))
            .is_some_and(|until| *until > now)
    }

    /// Whether a phone is on WhatsApp.
    pub(super) fn is_reachable(&self, phone: &str) -> bool {
        !self.unreachable.contains(phone)
    }

    /// `POST /_control/customer/phone`.
    pub(super) fn set(&mut self, phone: &str, request: &Value) {
        let phone = digits_of(phone);
        for (name, when, phones) in [
            ("whatsapp", false, &mut self.unreachable),
            ("sms", false, &mut self.off),
            ("dnd", true, &mut self.undisturbed),
        ] {
            match request.get(name).and_then(Value::as_bool) {
                Some(said) if said == when => {
                    phones.insert(phone.clone());
                }
                Some(_) => {
                    phones.remove(&phone);
                }
                None => {}
            }
        }
    }

    /// Whether an SMS arrives; if not, why.
    pub(super) fn sms(&self, phone: &str, is_promotional: bool) -> Result<(), NoSms> {
        let phone = digits_of(phone);
        if is_promotional && self.undisturbed.contains(&phone) {
            Err(NoSms::Undisturbed)
        } else if self.off.contains(&phone) {
            Err(NoSms::Off)
        } else {
            Ok(())
        }
    }

    /// Whether a reference is used up. No copy of the documents says what a second message with the same one gets; "unique
    /// per order_details message" makes its value invalid. A message that failed never made an order.
    pub(super) fn check_unused(&self, business: &str, content: &Content) -> Result<(), Refusal> {
        let Content::Order(order) = content else {
            return Ok(());
        };
        let key = (business.to_owned(), order.reference_id.clone());
        if self.orders.contains_key(&key) {
            return Err(Refusal::new(
                131_009,
                "reference_id must be unique for each order_details message",
            ));
        }
        Ok(())
    }

    /// What an accepted message does to the order it is about, or the error that is reported later.
    pub(super) fn apply(
        &mut self,
        business: &str,
        account: &str,
        customer: &str,
        content: &Content,
    ) -> Option<Refusal> {
        match content {
            Content::Plain => None,
            Content::Order(order) => {
                let key = (business.to_owned(), order.reference_id.clone());
                self.orders.insert(
                    key,
                    Placed {
                        order: order.clone(),
                        account: account.to_owned(),
                        to: customer.to_owned(),
                        status: "pending".to_owned(),
                        transactions: Vec::new(),
                    },
                );
                None
            }
            Content::Status {
                reference_id,
                status,
            } => {
                let key = (business.to_owned(), reference_id.clone());
                // An unknown reference has no documented error; the order it names has no state to be left.
                let Some(placed) = self.orders.get_mut(&key) else {
                    return Some(Refusal::new(2046, "No order has this reference_id."));
                };
                if !order_details::may_become(&placed.status, status) {
                    return Some(Refusal::new(
                        2046,
                        format!("The order is {} and cannot become {status}.", placed.status),
                    ));
                }
                // "The status update will fail if there is already a successful or pending payment": only payments Meta
                // sees, those of a gateway.
                let is_paid = placed
                    .transactions
                    .iter()
                    .any(|transaction| transaction.status != "failed");
                if status == "canceled" && is_paid {
                    return Some(Refusal::new(2047, "The order has been paid."));
                }
                placed.status.clone_from(status);
                None
            }
        }
    }

    /// A customer taps Pay.
    pub(super) fn tap<'a>(
        &mut self,
        vendor: &'static str,
        act: Act,
        request: &Value,
        configurations: impl Fn(&str) -> &'a [Configuration],
        desk: &mut Desk,
    ) -> Result<Tapped, Refused> {
        let reference = wanted(request, "reference_id")
            .ok_or_else(|| Refused::invalid("reference_id is missing"))?;
        let (key, placed) = self
            .orders
            .iter_mut()
            .find(|((_, found), placed)| {
                found == reference
                    && wanted(request, "account").is_none_or(|account| account == placed.account)
            })
            .ok_or_else(|| Refused::unknown(format!("no order {reference:?} on any phone")))?;
        if placed.status == "canceled" {
            return Err(Refused::conflict("order_canceled", "the order is canceled"));
        }
        let late = request.get("late") == Some(&Value::Bool(true));
        if placed.order.expires_at.is_some_and(|at| at <= desk.now()) && !late {
            return Err(Refused::conflict("order_expired", "the order has expired"));
        }
        let (gateway, configuration, is_web_only) = match &placed.order.payment {
            Payment::Link(link) => return Ok(Tapped::Elsewhere(Outcome::Follow(link.clone()))),
            Payment::UpiIntent(link) => {
                // "UPI intent": Meta sends no payment signal; the gateway that owns the link does.
                return Ok(Tapped::Elsewhere(Outcome::Done(json!({
                    "vendor": vendor, "reference_id": reference, "upi_link": link, "signal": "none",
                }))));
            }
            Payment::Gateway {
                gateway,
                configuration,
                is_web_only,
                ..
            } => (gateway.clone(), configuration.clone(), *is_web_only),
        };
        let connected = configurations(&placed.account).iter().find(|found| {
            found.configuration_name == configuration
                && found.provider_name.eq_ignore_ascii_case(&gateway)
                && found.status == "Active"
        });
        let Some(connected) = connected else {
            return Err(Refused::conflict(
                "cannot_pay",
                format!("no active {gateway} configuration is called {configuration:?}"),
            ));
        };
        if placed.captured().is_some() {
            return Err(Refused::conflict("already_paid", "the order is paid"));
        }
        let method = wanted(request, "method").unwrap_or("upi");
        if method == "upi" && placed.order.total > order_details::UPI_CAP && !is_web_only {
            return Err(Refused::conflict(
                "over_the_upi_cap",
                "UPI takes 5,00,000 rupees at most",
            ));
        }
        let amount = request
            .get("amount")
            .and_then(Value::as_i64)
            .unwrap_or(placed.order.total);
        let (status, error) = match act {
            Act::Pay => ("success", None),
            Act::Fail => (
                "failed",
                Some(
                    json!({"code": "payment_failed", "reason": "The payment was declined by the bank."}),
                ),
            ),
            _ => (
                "failed",
                Some(
                    json!({"code": "payment_cancelled", "reason": "The payment was cancelled by the user."}),
                ),
            ),
        };
        let transaction = Transaction {
            id: format!("order_{}", desk.id(14)),
            // PayU numbers its payments.
            pg_id: match gateway.as_str() {
                "payu" => desk.digits(18),
                _ => format!("pay_{}", desk.id(14)),
            },
            gateway,
            status,
            method: method.to_owned(),
            amount,
            at: desk.now(),
            error,
            refunds: Vec::new(),
        };
        let done = json!({
            "vendor": vendor, "reference_id": reference, "status": status, "amount": amount,
            "transaction_id": transaction.id, "pg_transaction_id": transaction.pg_id,
        });
        if let Some(account) = &connected.gateway_account {
            desk.mirrors.push(Mirror::Payment {
                gateway: transaction.gateway.clone(),
                account: account.clone(),
                order_id: transaction.id.clone(),
                payment_id: transaction.pg_id.clone(),
                amount,
                method: transaction.method.clone(),
                is_paid: status == "success",
                extras: placed.extras(),
            });
        }
        placed.transactions.push(transaction);
        Ok(Tapped::Attempted(key.clone(), done))
    }

    /// Refunds a payment made inside WhatsApp.
    pub(super) fn refund(
        &mut self,
        vendor: &'static str,
        key: &Key,
        configuration: &str,
        value: i64,
        refund: (&str, RefundsEnd),
        desk: &mut Desk,
    ) -> Result<Refund, NoRefund> {
        let (speed, end) = refund;
        let placed = self.orders.get_mut(key).ok_or(NoRefund::Unknown)?;
        if !matches!(&placed.order.payment, Payment::Gateway { configuration: found, .. } if found == configuration)
        {
            return Err(NoRefund::Unknown);
        }
        let transaction = placed
            .transactions
            .iter_mut()
            .find(|transaction| transaction.status == "success")
            .ok_or(NoRefund::Unknown)?;
        let refunded = transaction
            .refunds
            .iter()
            .filter(|refund| refund.status != "failed")
            .fold(0_i64, |sum, refund| sum.saturating_add(refund.amount));
        if refunded.saturating_add(value) > transaction.amount {
            return Err(NoRefund::TooMuch);
        }
        let refund = Refund {
            id: format!("rfnd_{}", desk.id(14)),
            amount: value,
            speed: speed.to_owned(),
            status: match end {
                RefundsEnd::Processed => "completed",
                RefundsEnd::Pending => "pending",
                RefundsEnd::Failed => "failed",
            },
            at: desk.now(),
        };
        transaction.refunds.push(refund.clone());
        self.tell_refund(vendor, key, &refund, desk);
        Ok(refund)
    }

    /// Tells the gateway of a refund asked for here.
    fn tell_refund(&self, vendor: &'static str, key: &Key, refund: &Refund, desk: &mut Desk) {
        if let Some(transaction) = self.orders.get(key).and_then(Placed::captured) {
            desk.mirrors.push(Mirror::Refund {
                from: vendor,
                payment_id: transaction.pg_id.clone(),
                refund_id: refund.id.clone(),
                amount: refund.amount,
                status: if refund.status == "completed" {
                    "processed"
                } else {
                    refund.status
                },
            });
        }
    }

    /// Ends a refund that was left pending.
    pub(super) fn settle(
        &mut self,
        vendor: &'static str,
        id: &str,
        status: &str,
        desk: &mut Desk,
    ) -> Result<(Key, &'static str), Refused> {
        let status = match status {
            "processed" => "completed",
            "failed" => "failed",
            _ => return Err(Refused::invalid("status must be processed or failed")),
        };
        let (key, refund) = self
            .orders
            .iter_mut()
            .find_map(|(key, placed)| {
                placed
                    .transactions
                    .iter_mut()
                    .flat_map(|transaction| transaction.refunds.iter_mut())
                    .find(|refund| refund.id == id)
                    .map(|refund| (key.clone(), refund))
            })
            .ok_or_else(|| Refused::unknown(format!("no refund {id:?}")))?;
        if refund.status != "pending" {
            return Err(Refused::conflict(
                "not_pending",
                format!("the refund is {}", refund.status),
            ));
        }
        refund.status = status;
        let refund = refund.clone();
        self.tell_refund(vendor, &key, &refund, desk);
        Ok((key, status))
    }

    /// Hears of a refund made elsewhere; the order it belongs to, if it is one of these.
    pub(super) fn hear(&mut self, vendor: &'static str, mirror: &Mirror, now: i64) -> Option<Key> {
        let Mirror::Refund {
            from,
            payment_id,
            refund_id,
            amount,
            status,
        } = mirror
        else {
            return None;
        };
        if *from == vendor {
            return None;
        }
        let status = match *status {
            "processed" => "completed",
            other => other,
        };
        let (key, transaction) = self.orders.iter_mut().find_map(|(key, placed)| {
            placed
                .transactions
                .iter_mut()
                .find(|transaction| transaction.pg_id == *payment_id)
                .map(|transaction| (key.clone(), transaction))
        })?;
        match transaction
            .refunds
            .iter_mut()
            .find(|refund| refund.id == *refund_id)
        {
            Some(refund) => refund.status = status,
            None => transaction.refunds.push(Refund {
                id: refund_id.clone(),
                amount: *amount,
                speed: "normal".to_owned(),
                status,
                at: now,
            }),
        }
        Some(key)
    }
}

/// A file by link or id.
pub(super) fn check_media(media: &Fields<'_>) -> Result<(), Refusal> {
    media.text("filename", 240)?;
    match (media.text("link", 2048)?, media.text("id", 512)?) {
        (Some(link), None) => {
            if link.starts_with("https://") || link.starts_with("http://127.0.0.1:") {
                Ok(())
            } else {
                Err(Refusal::new(
                    131_009,
                    format!("{} must be an https URL", media.at("link")),
                ))
            }
        }
        (None, Some(_)) => Ok(()),
        (None, None) => Err(Refusal::new(
            131_008,
            format!("{} or id is required", media.at("link")),
        )),
        (Some(_), Some(_)) => Err(Refusal::new(
            131_009,
            format!("{} and id exclude each other", media.at("link")),
        )),
    }
}

/// An interactive message: an order or its status.
pub(super) fn read_interactive(
    interactive: &Value,
    path: &str,
    now: i64,
    leniency: Leniency,
) -> Result<Content, Refusal> {
    let interactive = Fields::of(
        interactive,
        path,
        &["type", "header", "body", "footer", "action"],
    )?;
    let kind = interactive.need_word("type", &["order_details", "order_status"])?;
    if let Some(header) =
        interactive.object("header", &["type", "text", "image", "video", "document"])?
    {
        if kind == "order_status" {
            return Err(Problem::Unknown {
                path: interactive.at("header"),
            }
            .into());
        }
        let media = header.need_word("type", &["text", "image", "video", "document"])?;
        if media == "text" {
            header.need_text("text", 60)?;
        } else {
            let file = header.need_object(media, &["link", "id", "provider", "filename"])?;
            check_media(&file)?;
        }
    }
    interactive
        .need_object("body", &["text"])?
        .need_text("text", 1024)?;
    if let Some(footer) = interactive.object("footer", &["text"])? {
        footer.need_text("text", 60)?;
    }
    let action = interactive.need_object("action", &["name", "parameters"])?;
    if kind == "order_details" {
        action.need_word("name", &["review_and_pay"])?;
        let order = order_details::read(
            action.need("parameters")?,
            &action.at("parameters"),
            now,
            leniency,
        )?;
        return Ok(Content::Order(order));
    }
    action.need_word("name", &["review_order"])?;
    let parameters = action.need_object("parameters", &["reference_id", "order"])?;
    Ok(read_status(&parameters)?)
}

/// The parameters of an order status.
pub(super) fn read_status(parameters: &Fields<'_>) -> Result<Content, Problem> {
    let reference_id = parameters.need_text("reference_id", 1000)?;
    order_details::check_reference(parameters.at("reference_id"), reference_id)?;
    let order = parameters.need_object("order", &["status", "description"])?;
    let status = order.need_word("status", order_details::STATUSES)?;
    order.text("description", 120)?;
    Ok(Content::Status {
        reference_id: reference_id.to_owned(),
        status: status.to_owned(),
    })
}

/// "Order details template" and "Order status template".
pub(super) fn read_template(
    sent: &Value,
    path: &str,
    templates: &[Template],
    now: i64,
    leniency: Leniency,
) -> Result<Content, Refusal> {
    let sent = Fields::of(sent, path, &["name", "language", "components"])?;
    let name = sent.need_text("name", 512)?;
    let language = sent.need_object("language", &["policy", "code"])?;
    language.word("policy", &["deterministic"])?;
    let code = language.need_text("code", 20)?;
    let template = templates
        .iter()
        .find(|template| {
            template.name == name
                && template.language == code
                && !matches!(template.status.as_str(), "PENDING" | "REJECTED")
        })
        .ok_or_else(|| {
            Refusal::new(
                132_001,
                format!("template name ({name}) does not exist in {code}"),
            )
        })?;
    match template.status.as_str() {
        "PAUSED" => return Err(Refusal::new(132_015, "the template is paused")),
        "DISABLED" => return Err(Refusal::new(132_016, "the template is disabled")),
        _ => {}
    }
    let mut variables = 0;
    let mut header = None;
    let mut url_button = false;
    let mut content = None;
    for (index, component) in sent
        .array("components")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let path = format!("{}[{index}]", sent.at("components"));
        let component = Fields::of(
            component,
            path,
            &["type", "sub_type", "index", "parameters"],
        )?;
        let kind = component.need_word("type", &["header", "body", "button", "order_status"])?;
        let parameters = component.need_array("parameters")?;
        let at = component.at("parameters");
        match kind {
            "header" => header = Some(read_header_parameter(parameters, &at)?),
            "body" => {
                for (index, parameter) in parameters.iter().enumerate() {
                    read_text_parameter(parameter, format!("{at}[{index}]"))?;
                }
                variables = parameters.len();
            }
            "order_status" => {
                let [parameter] = parameters else {
                    return Err(Refusal::new(132_012, format!("{at} must have one entry")));
                };
                let parameter =
                    Fields::of(parameter, format!("{at}[0]"), &["type", "order_status"])?;
                parameter.need_word("type", &["order_status"])?;
                let status = parameter.need_object("order_status", &["reference_id", "order"])?;
                content = Some((TemplateKind::OrderStatus, read_status(&status)?));
            }
            _ => {
                check_button_index(&component)?;
                if component.need_word("sub_type", &["order_details", "url"])? == "url" {
                    let [parameter] = parameters else {
                        return Err(Refusal::new(132_012, format!("{at} must have one entry")));
                    };
                    read_text_parameter(parameter, format!("{at}[0]"))?;
                    url_button = true;
                } else {
                    let order = read_order_button(parameters, &at, now, leniency)?;
                    content = Some((TemplateKind::OrderDetails, Content::Order(order)));
                }
            }
        }
    }
    if variables != template.variables {
        return Err(Refusal::new(
            132_000,
            format!(
                "body: number of localizable_params ({variables}) does not match the expected number of params ({})",
                template.variables
            ),
        ));
    }
    if header != template.header {
        return Err(Refusal::new(
            132_012,
            format!(
                "header: Format mismatch, expected {}, received {}",
                template.header.as_deref().unwrap_or("UNKNOWN"),
                header.as_deref().unwrap_or("UNKNOWN")
            ),
        ));
    }
    if url_button != template.url_button {
        return Err(Refusal::new(
            132_000,
            "buttons: number of localizable_params does not match the expected number of params",
        ));
    }
    match (template.kind, content) {
        (TemplateKind::Body, None) => Ok(Content::Plain),
        (wanted, Some((found, content))) if wanted == found => Ok(content),
        (TemplateKind::OrderDetails, None) => Err(Refusal::new(
            131_008,
            "template.components: the order_details button is required",
        )),
        (TemplateKind::OrderStatus, None) => Err(Refusal::new(
            131_008,
            "template.components: the order_status component is required",
        )),
        (_, Some(_)) => Err(Refusal::new(
            132_012,
            "the template was not created with this component",
        )),
    }
}

/// The only button of these templates is the first; both `0` and `"0"` stand in Meta's samples.
fn check_button_index(component: &Fields<'_>) -> Result<(), Refusal> {
    let index = component.need("index")?;
    if *index == json!(0) || *index == json!("0") {
        Ok(())
    } else {
        Err(Refusal::new(
            131_009,
            format!("{} must be 0", component.at("index")),
        ))
    }
}

fn read_order_button(
    parameters: &[Value],
    at: &str,
    now: i64,
    leniency: Leniency,
) -> Result<Order, Refusal> {
    let [parameter] = parameters else {
        return Err(Refusal::new(132_012, format!("{at} must have one entry")));
    };
    let parameter = Fields::of(parameter, format!("{at}[0]"), &["type", "action"])?;
    parameter.need_word("type", &["action"])?;
    let action = parameter.need_object("action", &["order_details"])?;
    Ok(order_details::read(
        action.need("order_details")?,
        &action.at("order_details"),
        now,
        leniency,
    )?)
}

fn read_header_parameter(parameters: &[Value], at: &str) -> Result<String, Refusal> {
    let [parameter] = parameters else {
        return Err(Refusal::new(132_000, format!("{at} must have one entry")));
    };
    let parameter = Fields::of(
        parameter,
        format!("{at}[0]"),
        &["type", "text", "image", "video", "document"],
    )?;
    let kind = parameter.need_word("type", &["text", "image", "video", "document"])?;
    if kind == "text" {
        parameter.need_text("text", 60)?;
    } else {
        let media = parameter.need_object(kind, &["link", "id", "filename"])?;
        check_media(&media)?;
    }
    Ok(kind.to_owned())
}

fn read_text_parameter(parameter: &Value, at: String) -> Result<(), Refusal> {
    let fields = Fields::of(parameter, at, &["type", "text"])?;
    let kind = fields.need_text("type", 30)?;
    if kind != "text" {
        return Err(Refusal::new(
            132_012,
            format!(
                "{} is {kind:?}, the template has text here",
                fields.at("type")
            ),
        ));
    }
    let text = fields.need_text("text", 1024)?;
    // "Param text cannot have new-line/tab characters or more than 4 consecutive spaces".
    if text.contains(['\n', '\t']) || text.contains("     ") {
        return Err(Refusal::new(
            132_012,
            format!(
                "{} cannot have new-line/tab characters or more than 4 consecutive spaces",
                fields.at("text")
            ),
        ));
    }
    Ok(())
}
