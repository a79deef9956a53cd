//! The receipt page: one HTML document without script, without anything from elsewhere, that a phone shows and a till prints.
//!
//! Everything a shop or a customer typed is escaped by the template, isolated from the text around it and freed of characters
//! that reorder text, so that a name can never change how a price reads. This file decides what the page says; how it looks is
//! `templates/receipt.html` and `templates/receipt.css`.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chatbill_domain::bill::{Charge, Item};
use chatbill_domain::contact::Msisdn;
use chatbill_domain::event::Event;
use chatbill_domain::message::{Fulfilment, reorders};
use chatbill_domain::money::Paise;
use chatbill_domain::order::{Order, PaymentStatus};
use chatbill_domain::payment::{Parts, PayForm, PaymentMode};
use chatbill_domain::refund::RefundState;
use chatbill_domain::signature::sha256;
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;

/// The only style the page's policy allows.
const STYLE: &str = include_str!("../templates/receipt.css");

/// A browser hashes the text between the style tags; a page whose policy names another hash has no style at all, so the hash is
/// taken from the very text that goes into the page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; img-src 'self'; style-src 'sha256-{}'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        STANDARD.encode(sha256(STYLE.as_bytes()))
    )
});

/// Presses the button for a customer whose browser runs scripts; for the others the button stays.
const SUBMIT: &str = "document.forms[0].submit()";

/// The policy of the page that posts itself. The gateway answers the post with redirects of its own to hosts we do not know, and
/// browsers hold those to `form-action` as well; so it allows every https address besides the form's own.
fn form_policy(action: &str) -> String {
    let origin = action.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; form-action https: {origin}; base-uri 'none'; frame-ancestors 'none'",
        STANDARD.encode(sha256(STYLE.as_bytes())),
        STANDARD.encode(sha256(SUBMIT.as_bytes()))
    )
}

/// What the page needs besides the order.
#[derive(Debug, Clone)]
pub struct View {
    /// Where the pay button leads: an http(s) or `upi:` address, or a path (relative ones too).
    /// Shown only while the order can be paid.
    pub pay_url: Option<String>,
    /// Where the QR code is, on the page's own origin. Shown only while the order can be paid.
    pub qr_url: Option<String>,
    /// The page's own address, to look again after paying.
    pub receipt_url: String,
    /// The time.
    pub now: Millis,
}

/// The page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the receipt page could not be rendered")]
pub struct RenderError(#[from] askama::Error);

/// The page of an order.
pub fn render(order: &Order, tenant: &Tenant, view: &View) -> Result<String, RenderError> {
    Ok(Receipt::new(order, tenant, view, &Standing::of(order)).render()?)
}

/// Whether the customer is asked to pay: the order is open, its time is not over, and no money is on its way or under review.
/// The way to the payment must be closed whenever the page has no button.
#[must_use]
pub fn payable(order: &Order, now: Millis) -> bool {
    banner(order, &Standing::of(order), now, true).1 == Due::Now
}

/// The page for a link that opens nothing. It does not say whether there is such a bill.
pub fn not_found() -> Result<String, RenderError> {
    notice(
        "No receipt here",
        "This link is not complete or not valid. Open it again from the message you got, or ask the shop.",
    )
}

/// The page for an order that cannot be read at the moment.
pub fn unavailable() -> Result<String, RenderError> {
    notice(
        "Please try again in a moment",
        "The receipt cannot be shown right now. Nothing is lost; this link keeps working.",
    )
}

/// The page that posts a gateway's form, and its policy. It shows the amount and a button while it does so.
pub fn pay(
    order: &Order,
    tenant: &Tenant,
    form: &PayForm,
) -> Result<(String, String), RenderError> {
    let page = Pay {
        style: STYLE,
        script: SUBMIT,
        shop: Words::of(order).clean(&tenant.display_name),
        amount: order.bill().total.rupees(),
        action: &form.action,
        fields: &form.fields,
    };
    Ok((page.render()?, form_policy(&form.action)))
}

/// Headers of every page of this function.
#[must_use]
pub fn headers() -> Vec<(&'static str, String)> {
    [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", POLICY.as_str()),
        ("X-Content-Type-Options", "nosniff"),
        // The address is the key to the page; the gateway's site must not learn it.
        ("Referrer-Policy", "no-referrer"),
        ("X-Robots-Tag", "noindex, nofollow"),
        // A stale "to pay" would make a customer pay twice.
        ("Cache-Control", "private, no-store"),
        ("Strict-Transport-Security", "max-age=31536000"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

fn notice(title: &'static str, text: &'static str) -> Result<String, RenderError> {
    Ok(Notice {
        style: STYLE,
        title,
        text,
    }
    .render()?)
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Notice {
    style: &'static str,
    title: &'static str,
    text: &'static str,
}

#[derive(Template)]
#[template(path = "pay.html")]
struct Pay<'a> {
    style: &'static str,
    script: &'static str,
    shop: String,
    amount: String,
    action: &'a str,
    fields: &'a [(String, String)],
}

#[derive(Template)]
#[template(path = "receipt.html")]
struct Receipt<'a> {
    style: &'static str,
    kind: &'static str,
    shop: String,
    initial: Option<String>,
    reference: &'a str,
    date: Moment,
    banner: Banner,
    pay_before: Option<Moment>,
    pay_url: Option<&'a str>,
    qr_url: Option<&'a str>,
    again_url: Option<&'a str>,
    again: &'static str,
    lines: Vec<Line>,
    sums: Vec<Sum>,
    saved: Option<String>,
    details: Vec<Detail>,
    footer: Option<String>,
}

/// A time for people and for machines.
struct Moment {
    people: String,
    machine: String,
}

impl From<Millis> for Moment {
    fn from(at: Millis) -> Self {
        Self {
            people: format!("{} IST", at.india()),
            machine: at.rfc3339(),
        }
    }
}

/// A line of the bill.
struct Line {
    name: String,
    quantity: u32,
    was: Option<String>,
    price: String,
    total: String,
}

/// A line below the bill.
struct Sum {
    label: &'static str,
    detail: Option<String>,
    amount: String,
    strong: bool,
}

/// A fact about the order. `code` marks what people copy letter by letter.
struct Detail {
    label: &'static str,
    text: String,
    code: bool,
}

/// What stands out on top.
struct Banner {
    tone: Tone,
    title: &'static str,
    amount: String,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Due,
    Paid,
    Check,
    Over,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Paid => "paid",
            Self::Check => "check",
            Self::Over => "over",
        }
    }

    /// Lines in a circle of radius 11 around 12,12: clock hands, a tick, an i, a dash.
    const fn icon(self) -> &'static str {
        match self {
            Self::Due => "M12 6.5V12l3.5 2.5",
            Self::Paid => "M7 12.5l3.5 3.5L17 9",
            Self::Check => "M12 11v6M12 7v.1",
            Self::Over => "M7.5 12h9",
        }
    }
}

/// Where the money is, as far as the page tells it.
struct Standing {
    status: PaymentStatus,
    paid: Parts,
    refunded: Paise,
}

impl Standing {
    fn of(order: &Order) -> Self {
        Self {
            status: order.payment_status(),
            paid: order.paid(),
            refunded: order.refunded_amount(),
        }
    }
}

/// Whether the customer can or should pay now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Yes.
    Now,
    /// Perhaps again later; money may be on its way, so no second payment is asked for.
    Unclear,
    /// No.
    Never,
}

impl<'a> Receipt<'a> {
    fn new(order: &'a Order, tenant: &Tenant, view: &'a View, standing: &Standing) -> Self {
        let bill = order.bill();
        let words = Words::of(order);
        let shop = words.clean(&tenant.display_name);
        let pay_url = view.pay_url.as_deref().and_then(link);
        let (banner, due) = banner(order, standing, view.now, pay_url.is_some());
        let now = due == Due::Now;
        Self {
            style: STYLE,
            kind: if standing.status.is_paid() {
                "Receipt"
            } else {
                "Bill"
            },
            initial: shop
                .chars()
                .find(|c| c.is_alphanumeric())
                .map(|c| c.to_uppercase().collect()),
            shop,
            reference: bill.reference.as_str(),
            date: order.contents.created_at.into(),
            banner,
            pay_before: now.then(|| order.expires_at().into()),
            pay_url: pay_url.filter(|_| now),
            qr_url: view.qr_url.as_deref().and_then(link).filter(|_| now),
            again_url: link(&view.receipt_url).filter(|_| due != Due::Never),
            again: if now {
                "Already paid? Check again"
            } else {
                "Check again"
            },
            lines: bill.items.iter().map(|item| line(item, &words)).collect(),
            sums: sums(order, standing, &words),
            saved: saved(order)
                .filter(|_| now || standing.status == PaymentStatus::Captured)
                .map(Paise::rupees),
            details: details(order, &words),
            footer: bill.footer.as_deref().map(|text| words.clean(text)),
        }
    }
}

fn banner(order: &Order, standing: &Standing, now: Millis, link: bool) -> (Banner, Due) {
    let total = order.bill().total.rupees();
    let held = !order.holds.is_empty();
    let say = |tone, title, amount: &str, notes: &[&str], due| {
        let banner = Banner {
            tone,
            title,
            amount: amount.to_owned(),
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        };
        (banner, due)
    };
    let (mut banner, due) = match standing.status {
        PaymentStatus::Captured => say(
            Tone::Paid,
            "Paid",
            &standing.paid.received.rupees(),
            &["Thank you!"],
            Due::Never,
        ),
        PaymentStatus::PartiallyRefunded => say(
            Tone::Paid,
            "Paid, partly refunded",
            &standing.paid.received.rupees(),
            &[&format!("{} went back to you.", standing.refunded.rupees())],
            Due::Never,
        ),
        PaymentStatus::Refunded => say(
            Tone::Over,
            "Refunded",
            &standing.refunded.rupees(),
            &[if standing.refunded < standing.paid.received {
                "Everything went back to you but the payment fee, which the payment company keeps."
            } else {
                "The whole amount went back to you."
            }],
            Due::Never,
        ),
        // Money came, but not as it should have. Whether it pays this bill is not for this page to say.
        _ if held => say(
            Tone::Check,
            "Payment under review",
            &total,
            &["The shop is checking this payment. Please do not pay again."],
            Due::Unclear,
        ),
        PaymentStatus::Canceled => say(
            Tone::Over,
            "Canceled",
            &total,
            &["This bill was canceled. There is nothing to pay."],
            Due::Never,
        ),
        PaymentStatus::Expired => say(
            Tone::Over,
            "Expired",
            &total,
            &["The time to pay this bill is over. Please ask the shop for a new one."],
            Due::Never,
        ),
        PaymentStatus::Pending | PaymentStatus::Failed => {
            let (notes, due) = open(order, now, link);
            match due {
                Due::Now => say(Tone::Due, "To pay", &total, &notes, due),
                Due::Unclear | Due::Never => {
                    say(Tone::Check, "Waiting for payment", &total, &notes, due)
                }
            }
        }
    };
    if held && standing.status.is_paid() {
        banner
            .notes
            .push("The shop is checking another payment for this bill.".to_owned());
    }
    (banner, due)
}

/// What to say about an order that is not paid and not over.
fn open(order: &Order, now: Millis, link: bool) -> (Vec<&'static str>, Due) {
    let inside_whatsapp = order.terms().mode == PaymentMode::PaymentGateway;
    let unclear = if order.awaits_capture(now) {
        "A payment is being confirmed. Please do not pay again."
    } else if now >= order.expires_at() {
        "The time to pay is over. If you have just paid, check again in a minute."
    } else if link || inside_whatsapp {
        let mut notes = Vec::new();
        if order.payment_status() == PaymentStatus::Failed {
            notes.push("The last attempt failed. You can try again.");
        }
        if !link {
            notes.push("Please pay in the WhatsApp chat this bill came in.");
        }
        return (notes, Due::Now);
    } else if order.refusal.is_some() {
        "This bill cannot be paid online at the moment. Please ask the shop."
    } else {
        "The payment is being prepared. Please check again in a minute."
    };
    (vec![unclear], Due::Unclear)
}

fn line(item: &Item, words: &Words) -> Line {
    Line {
        name: words.clean(&item.name),
        quantity: item.quantity,
        was: item.sale_amount.map(|_| item.amount.rupees()),
        price: item.price().rupees(),
        // A checked bill's lines always fit.
        total: item.total().map(Paise::rupees).unwrap_or_default(),
    }
}

fn sums(order: &Order, standing: &Standing, words: &Words) -> Vec<Sum> {
    let bill = order.bill();
    let minus = |amount: Paise| format!("−{}", amount.rupees());
    let sum = |label, detail, amount| Sum {
        label,
        detail,
        amount,
        strong: false,
    };
    let told = |charge: &Charge| {
        let texts: Vec<String> = [&charge.program, &charge.description]
            .into_iter()
            .flatten()
            .map(|text| words.clean(text))
            .collect();
        (!texts.is_empty()).then(|| format!("({})", texts.join(", ")))
    };
    let mut sums = Vec::new();
    // Meta wants the tax even where there is none; people do not.
    let tax = Some(&bill.tax).filter(|tax| tax.amount > Paise::ZERO || tax.description.is_some());
    if tax.is_some() || bill.shipping.is_some() || bill.discount.is_some() {
        sums.push(sum("Subtotal", None, bill.subtotal.rupees()));
    }
    if let Some(tax) = tax {
        sums.push(sum("Tax", told(tax), tax.amount.rupees()));
    }
    if let Some(shipping) = &bill.shipping {
        sums.push(sum("Shipping", told(shipping), shipping.amount.rupees()));
    }
    if let Some(discount) = &bill.discount {
        sums.push(sum("Discount", told(discount), minus(discount.amount)));
    }
    sums.push(Sum {
        label: "Total",
        detail: None,
        amount: bill.total.rupees(),
        strong: true,
    });
    let paid = standing.paid;
    if standing.status.is_paid() && paid.received != bill.total {
        if paid.fee > Paise::ZERO {
            sums.push(sum("Payment fee", None, paid.fee.rupees()));
        }
        if paid.offer > Paise::ZERO {
            sums.push(sum("Payment offer", None, minus(paid.offer)));
        }
        sums.push(Sum {
            label: "Paid",
            detail: None,
            amount: paid.received.rupees(),
            strong: true,
        });
    }
    if standing.refunded > Paise::ZERO {
        sums.push(sum("Refunded", None, minus(standing.refunded)));
        if let Some(kept) = paid.received.checked_sub(standing.refunded) {
            sums.push(sum("Paid after refund", None, kept.rupees()));
        }
    }
    sums
}

/// Reduced prices and the discount together.
fn saved(order: &Order) -> Option<Paise> {
    let bill = order.bill();
    let discount = bill.discount.as_ref().map_or(Paise::ZERO, |d| d.amount);
    let saved = bill.items.iter().try_fold(discount, |sum, item| {
        sum.checked_add(
            item.amount
                .checked_sub(item.price())?
                .checked_mul(item.quantity)?,
        )
    });
    saved.filter(|saved| *saved > Paise::ZERO)
}

fn details(order: &Order, words: &Words) -> Vec<Detail> {
    let detail = |label, text: String| Detail {
        label,
        text,
        code: false,
    };
    let mut details = Vec::new();
    if let Some(name) = &order.bill().customer.name {
        details.push(detail("Customer", words.clean(name)));
    }
    details.push(detail("Phone", order.phone.masked()));
    if let Some((id, at)) = order.payment() {
        details.push(detail("Paid on", Moment::from(at).people));
        let method = order
            .attempts
            .get(id)
            .and_then(|a| a.report.method.as_deref());
        if let Some(method) = method {
            details.push(detail("Paid by", words.clean(method_name(method))));
        }
        details.push(Detail {
            label: "Payment ID",
            text: words.clean(id),
            code: true,
        });
    }
    let refunds = order.refunds.list().iter();
    for refund in refunds.filter(|r| order.payment().is_some_and(|(id, _)| id == r.payment_id)) {
        let amount = refund.amount.rupees();
        match (refund.state, refund.done_at) {
            (RefundState::Processed, Some(at)) => {
                details.push(detail(
                    "Refunded",
                    format!("{amount} on {}", Moment::from(at).people),
                ));
            }
            (RefundState::Pending, _) => {
                details.push(detail("Refund on its way", amount));
            }
            _ => continue,
        }
        if let Some(reference) = &refund.bank_reference {
            details.push(Detail {
                label: "Bank reference of the refund",
                text: words.clean(reference),
                code: true,
            });
        }
    }
    if let Some(word) = fulfilment(order.fulfilment) {
        details.push(detail("Order status", word.to_owned()));
        let told = order
            .events
            .iter()
            .rev()
            .find_map(|recorded| match &recorded.event {
                Event::Fulfilment { to, description } if *to == order.fulfilment => {
                    Some(description.as_deref())
                }
                _ => None,
            });
        if let Some(text) = told.flatten() {
            details.push(detail("From the shop", words.clean(text)));
        }
    }
    details
}

/// Gateways' words for a way to pay, as people say it; an unknown one is shown as it is.
fn method_name(method: &str) -> &str {
    match method.to_ascii_lowercase().as_str() {
        "upi" => "UPI",
        "card" => "Card",
        "netbanking" => "Net banking",
        "wallet" => "Wallet",
        "emi" => "EMI",
        "paylater" => "Pay later",
        _ => method,
    }
}

/// Nothing done yet is not worth a line, and a cancellation is said on top.
const fn fulfilment(fulfilment: Fulfilment) -> Option<&'static str> {
    match fulfilment {
        Fulfilment::Pending | Fulfilment::Canceled => None,
        Fulfilment::Processing => Some("Being prepared"),
        Fulfilment::PartiallyShipped => Some("Partly shipped"),
        Fulfilment::Shipped => Some("Shipped"),
        Fulfilment::Completed => Some("Completed"),
    }
}

/// An address that may stand in a link: http(s), a UPI intent, or a path on the page's own origin. Anything else is left out.
fn link(url: &str) -> Option<&str> {
    // What stands before the first colon is a scheme, unless the path has begun by then.
    let scheme = url
        .split_once(['/', '?', '#'])
        .map_or(url, |(first, _)| first)
        .split_once(':')
        .map(|(scheme, _)| scheme);
    let fits = match scheme {
        Some(scheme) => ["https", "http", "upi"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known)),
        None => !url.is_empty() && !url.starts_with("//"),
    };
    // Browsers drop outer blanks and control characters and take \ for /, so with them an address is not what it looks like.
    let plain = url.trim() == url && !url.contains(|c: char| c.is_control() || c == '\\');
    (fits && plain).then_some(url)
}

/// Makes other people's text fit to be shown.
struct Words {
    /// Digits that must not be shown in full, longest first.
    numbers: Vec<Vec<char>>,
}

impl Words {
    fn of(order: &Order) -> Self {
        let mut numbers: Vec<Vec<char>> = [&order.phone, &order.bill().customer.phone]
            .into_iter()
            .flat_map(|phone| [phone.digits().chars().collect(), national(phone)])
            .collect();
        numbers.sort_by_key(|digits| std::cmp::Reverse(digits.len()));
        numbers.dedup();
        Self { numbers }
    }

    /// The text without characters that reorder it or break its line, and with the customer's number hidden: shops put it into
    /// names ("Recharge 98765 43210"), and this page may be printed and left lying.
    fn clean(&self, text: &str) -> String {
        let mut chars: Vec<char> = text
            .chars()
            .filter(|c| !reorders(*c))
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        for number in &self.numbers {
            hide(&mut chars, number);
        }
        chars.into_iter().collect()
    }
}

/// The number without its country code. Codes have one to three digits; the longest is assumed where we do not know better.
fn national(phone: &Msisdn) -> Vec<char> {
    let digits = phone.digits();
    let code = if digits.starts_with("91") { 2 } else { 3 };
    digits.chars().skip(code).collect()
}

/// Hides all but the last four digits of `number` wherever it stands, also with blanks, dots, dashes or brackets in between.
fn hide(chars: &mut [char], number: &[char]) {
    let mut start = 0;
    while let Some(rest) = chars.get(start..) {
        if rest.is_empty() {
            break;
        }
        let mut found = Vec::with_capacity(number.len());
        for (offset, c) in rest.iter().enumerate() {
            if number.get(found.len()) == Some(c) {
                found.push(start.saturating_add(offset));
            } else if found.is_empty() || !matches!(c, ' ' | '\u{A0}' | '-' | '.' | '(' | ')' | '/')
            {
                break;
            }
            if found.len() == number.len() {
                break;
            }
        }
        if found.len() == number.len() {
            for at in found.iter().take(number.len().saturating_sub(4)) {
                if let Some(c) = chars.get_mut(*at) {
                    *c = '•';
                }
            }
        }
        start = start.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
