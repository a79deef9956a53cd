//! What an SMS in India may say: registered texts with slots, cut values, and how many parts it makes.
//!
//! Documents: TRAI, TCCCPR 2018 and the operators' DLT portals; 3GPP TS 23.038 (the GSM 7-bit alphabet) and TS 23.040 (parts).
//!
//! What shapes this file:
//! - The operator compares each message with its registered template and drops what does not fit, silently. So the text around the
//!   slots goes out exactly as it is registered, and only values are changed.
//! - A slot takes about 30 characters. A value that is longer is cut; a link is not, because half a link leads nowhere. Slots that
//!   follow each other directly and name the same value share it, 30 characters each, so a link can be given enough of them.
//! - One character outside the GSM alphabet (the rupee sign, a curly quote, a no-break space) turns the message into UCS-2 and
//!   doubles what it costs, and a template registered as plain text no longer fits. So values are spelled in the alphabet of
//!   their template.

use std::collections::BTreeMap;

use crate::json::{self, Fields};
use crate::message::{Content, Fulfilment, MessageKey, Outgoing, Remedy, SendFailure, Variable};

/// DLT: what one slot takes.
pub const SLOT: usize = 30;
/// Exotel, "Send SMS", Body: the longest of our providers' limits that is stated.
const LONGEST: usize = 2000;

/// What an SMS is about. Each has a DLT template of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Please pay.
    Invoice,
    /// Paid, with the receipt.
    Paid,
    /// An attempt to pay failed.
    Failed,
    /// The order was called off.
    Canceled,
    /// Money went back.
    Refund,
    /// The order changed.
    Status,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Invoice,
        Self::Paid,
        Self::Failed,
        Self::Canceled,
        Self::Refund,
        Self::Status,
    ];

    /// The word in tenant documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Refund => "refund",
            Self::Status => "status",
        }
    }

    /// The text to register when a tenant has none of its own, and what fills its slots in their order. In GSM-7 throughout. The
    /// link has three slots, 90 characters.
    #[must_use]
    pub const fn default_text(self) -> (&'static str, &'static [Variable]) {
        use Variable::{Amount, CustomerName, ReceiptUrl, ReferenceId, Shop, Status};
        match self {
            Self::Invoice => (
                "Dear {#var#}, your bill {#var#} from {#var#} is Rs.{#var#}. View and pay: {#var#}{#var#}{#var#}",
                &[
                    CustomerName,
                    ReferenceId,
                    Shop,
                    Amount,
                    ReceiptUrl,
                    ReceiptUrl,
                    ReceiptUrl,
                ],
            ),
            Self::Paid => (
                "{#var#} received your payment of Rs.{#var#} for bill {#var#}. Receipt: {#var#}{#var#}{#var#}",
                &[
                    Shop,
                    Amount,
                    ReferenceId,
                    ReceiptUrl,
                    ReceiptUrl,
                    ReceiptUrl,
                ],
            ),
            Self::Failed => (
                "Your payment of Rs.{#var#} for bill {#var#} at {#var#} did not go through. Try again: {#var#}{#var#}{#var#}",
                &[
                    Amount,
                    ReferenceId,
                    Shop,
                    ReceiptUrl,
                    ReceiptUrl,
                    ReceiptUrl,
                ],
            ),
            Self::Canceled => (
                "Your bill {#var#} at {#var#} was canceled. Details: {#var#}{#var#}{#var#}",
                &[ReferenceId, Shop, ReceiptUrl, ReceiptUrl, ReceiptUrl],
            ),
            Self::Refund => (
                "{#var#} refunded Rs.{#var#} of your bill {#var#}. Details: {#var#}{#var#}{#var#}",
                &[
                    Shop,
                    Amount,
                    ReferenceId,
                    ReceiptUrl,
                    ReceiptUrl,
                    ReceiptUrl,
                ],
            ),
            Self::Status => (
                "Your order {#var#} at {#var#} is {#var#}. Details: {#var#}{#var#}{#var#}",
                &[
                    ReferenceId,
                    Shop,
                    Status,
                    ReceiptUrl,
                    ReceiptUrl,
                    ReceiptUrl,
                ],
            ),
        }
    }

    /// What a message is about.
    #[must_use]
    pub fn of(out: &Outgoing<'_>) -> Self {
        match (&out.tag.message, &out.content) {
            (_, Content::Invoice { .. }) => Self::Invoice,
            (_, Content::Failed { .. }) => Self::Failed,
            (_, Content::Refund { .. }) => Self::Refund,
            (MessageKey::Paid | MessageKey::Receipt, _) | (_, Content::Receipt { .. }) => {
                Self::Paid
            }
            (
                _,
                Content::Status {
                    status: Fulfilment::Canceled,
                    ..
                },
            ) => Self::Canceled,
            (_, Content::Status { .. }) => Self::Status,
        }
    }
}

/// A registered text: what stands fixed, and between each two of these a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The DLT content template id.
    pub id: String,
    fixed: Vec<String>,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    variable: Variable,
    /// Tagged as a link, so its length is the registered domain's business.
    url: bool,
}

/// Why a text cannot be a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// Numbers of slots and values differ.
    #[error("has {slots} slots, but {variables} variables are named")]
    Count {
        /// `{#…#}` in the text.
        slots: usize,
        /// Values named.
        variables: usize,
    },
    /// A slot that none of the values fits.
    #[error("has a slot {{#{0}#}}; only var, alphanumeric and url can be filled")]
    Slot(String),
}

impl Template {
    /// Takes a text as registered. Slots are `{#var#}`, `{#alphanumeric#}` and `{#url#}`; a `{#numeric#}` slot takes digits only,
    /// and none of our values is that (an amount has a point).
    pub fn new(id: &str, text: &str, variables: &[Variable]) -> Result<Self, InvalidTemplate> {
        let mut fixed = Vec::new();
        let mut tags = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{#") {
            let Some((tag, after)) = after.split_once("#}") else {
                break;
            };
            if !matches!(tag, "var" | "alphanumeric" | "url") {
                return Err(InvalidTemplate::Slot(tag.chars().take(20).collect()));
            }
            fixed.push(before.to_owned());
            tags.push(tag == "url");
            rest = after;
        }
        fixed.push(rest.to_owned());
        if tags.len() != variables.len() {
            return Err(InvalidTemplate::Count {
                slots: tags.len(),
                variables: variables.len(),
            });
        }
        let slots = tags
            .into_iter()
            .zip(variables)
            .map(|(url, variable)| Slot {
                variable: *variable,
                url,
            })
            .collect();
        Ok(Self {
            id: id.to_owned(),
            fixed,
            slots,
        })
    }

    /// The text with its slots filled.
    #[must_use]
    pub fn fill(&self, value: impl Fn(Variable) -> String) -> Sms<'_> {
        let plain = self.fixed.iter().all(|text| text.chars().all(is_gsm));
        let mut text = String::new();
        let mut fixed = self.fixed.iter();
        let mut slots = self.slots.iter().peekable();
        let mut shared: Option<(Variable, usize)> = None;
        text.push_str(fixed.next().map_or("", String::as_str));
        while let Some(slot) = slots.next() {
            let following = fixed.next().map_or("", String::as_str);
            let taken = match shared {
                Some((variable, taken)) if variable == slot.variable => taken,
                _ => 0,
            };
            let shares_next = following.is_empty()
                && slots
                    .peek()
                    .is_some_and(|next| next.variable == slot.variable);
            let whole = spelled(&value(slot.variable), plain);
            let last_of_link = !shares_next && (slot.url || slot.variable == Variable::ReceiptUrl);
            let room = if last_of_link { usize::MAX } else { SLOT };
            text.extend(whole.chars().skip(taken).take(room));
            shared = shares_next.then(|| (slot.variable, taken.saturating_add(SLOT)));
            text.push_str(following);
        }
        let (encoding, segments) = parts(&text);
        Sms {
            template_id: &self.id,
            text,
            encoding,
            segments,
        }
    }
}

/// A text ready to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sms<'a> {
    /// Its DLT content template id.
    pub template_id: &'a str,
    /// The text.
    pub text: String,
    /// Its alphabet.
    pub encoding: Encoding,
    /// In how many parts it goes out.
    pub segments: u8,
}

/// The alphabet a text needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 7 bits a character; the extension's characters take two.
    Gsm7,
    /// 16 bits a unit; an emoji takes two.
    Ucs2,
}

/// A tenant's templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates(BTreeMap<Kind, Template>);

impl Templates {
    /// Reads `dlt_template_ids`: for each kind an id, whose text is then [`Kind::default_text`], or
    /// `{"id", "text", "variables"}`. `invoice` and `paid` must be there; messages of a kind that is not are not sent.
    pub fn read<'a>(f: &mut Fields<'a>, name: &'a str) -> Option<Self> {
        f.object(name, |t| {
            let mut templates = BTreeMap::new();
            let mut complete = true;
            for kind in Kind::ALL {
                if matches!(kind, Kind::Invoice | Kind::Paid) {
                    t.required(kind.as_str());
                }
                if t.value(kind.as_str()).is_none() {
                    continue;
                }
                match read_template(t, kind) {
                    Some(template) => drop(templates.insert(kind, template)),
                    None => complete = false,
                }
            }
            complete.then_some(Self(templates))
        })
    }

    /// The SMS for a message.
    pub fn compose(&self, out: &Outgoing<'_>) -> Result<Sms<'_>, SendFailure> {
        let kind = Kind::of(out);
        let template = self.0.get(&kind).ok_or_else(|| SendFailure {
            remedy: Remedy::GiveUp,
            code: "no_dlt_template".to_owned(),
            detail: format!("the tenant has no DLT template for {}", kind.as_str()),
        })?;
        let sms = template.fill(|variable| match variable {
            // "Rs." stands in the registered text.
            Variable::Amount => out.amount().decimal(),
            variable => out.variable(variable),
        });
        if sms.text.chars().count() > LONGEST {
            return Err(SendFailure {
                remedy: Remedy::GiveUp,
                code: "text_too_long".to_owned(),
                detail: format!("more than {LONGEST} characters"),
            });
        }
        Ok(sms)
    }
}

fn read_template(t: &mut Fields<'_>, kind: Kind) -> Option<Template> {
    const RULE: &str = "must be 1 to 40 letters and digits";
    let is_id = |id: &str| {
        (1..=40).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = kind.as_str();
    let value = t.value(name)?;
    if let Some(id) = value.as_str() {
        if !is_id(id) {
            t.fault(name, "invalid", RULE);
            return None;
        }
        let (text, variables) = kind.default_text();
        return Template::new(id, text, variables).ok();
    }
    let mut faults = Vec::new();
    let template = json::object(value, t.at(name), &mut faults, |f| {
        let id = f.required_text("id", 40);
        if id.as_deref().is_some_and(|id| !is_id(id)) {
            f.fault("id", "invalid", RULE);
        }
        let text = f.required("text").and_then(|_| f.lines("text", LONGEST));
        f.required("variables");
        let variables: Option<Vec<Variable>> = f.list("variables").and_then(|list| {
            let read = list.iter().map(|v| serde_json::from_value(v.clone()).ok());
            read.collect()
        });
        if variables.is_none() {
            f.fault(
                "variables",
                "invalid",
                "must be a list of shop, customer_name, reference_id, amount, receipt_url, payment_id, status",
            );
        }
        match Template::new(&id?, &text?, &variables?) {
            Ok(template) => Some(template),
            Err(error) => {
                f.fault("text", "invalid", error.to_string());
                None
            }
        }
    });
    let good = faults.is_empty();
    t.extend(faults);
    template.filter(|_| good)
}

/// A value as it can stand in a text: on one line, in the GSM alphabet when the text is. What has no spelling there is left out,
/// and a value of which nothing is left becomes a dash, because an empty slot does not fit its template.
fn spelled(value: &str, plain: bool) -> String {
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' if plain => {}
            c if c.is_whitespace() || c.is_control() => out.push(' '),
            c if !plain || is_gsm(c) => out.push(c),
            c => out.push_str(transliterated(c)),
        }
    }
    let line = out.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        "-".to_owned()
    } else {
        line
    }
}

/// How a character outside the GSM alphabet is spelled in it; empty when it cannot be.
fn transliterated(c: char) -> &'static str {
    match c {
        '₹' | '₨' => "Rs.",
        '‘' | '’' | '‚' | '‛' | '′' | '`' | '´' => "'",
        '“' | '”' | '„' | '‟' | '″' | '«' | '»' => "\"",
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' | '•' | '·' => "-",
        '…' => "...",
        '×' => "x",
        '©' => "(c)",
        '®' => "(R)",
        '™' => "TM",
        'á' | 'â' | 'ã' | 'ā' | 'ă' | 'ą' => "a",
        'Á' | 'À' | 'Â' | 'Ã' | 'Ā' | 'Ă' | 'Ą' => "A",
        'ç' | 'ć' | 'č' | 'ĉ' | 'ċ' => "c",
        'Ć' | 'Č' | 'Ĉ' | 'Ċ' => "C",
        'ď' | 'đ' | 'ð' | 'ḍ' => "d",
        'Ď' | 'Đ' | 'Ḍ' => "D",
        'ê' | 'ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'È' | 'Ê' | 'Ë' | 'Ē' | 'Ė' | 'Ę' | 'Ě' => "E",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'Ğ' | 'Ġ' => "G",
        'ĥ' | 'ħ' | 'ḥ' => "h",
        'Ḥ' => "H",
        'í' | 'î' | 'ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => "i",
        'Í' | 'Ì' | 'Î' | 'Ï' | 'Ī' | 'İ' => "I",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ł' | 'ḷ' => "l",
        'Ł' => "L",
        'ṃ' | 'ṁ' => "m",
        'ń' | 'ņ' | 'ň' | 'ṅ' | 'ṇ' => "n",
        'Ń' | 'Ň' | 'Ṇ' => "N",
        'ó' | 'ô' | 'õ' | 'ō' | 'ŏ' | 'ő' => "o",
        'Ó' | 'Ò' | 'Ô' | 'Õ' | 'Ō' | 'Ő' => "O",
        'œ' => "oe",
        'Œ' => "OE",
        'ŕ' | 'ŗ' | 'ř' | 'ṛ' => "r",
        'Ř' | 'Ṛ' => "R",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' | 'ṣ' => "s",
        'Ś' | 'Ş' | 'Š' | 'Ṣ' => "S",
        'ţ' | 'ť' | 'ŧ' | 'ț' | 'ṭ' => "t",
        'Ţ' | 'Ť' | 'Ṭ' => "T",
        'ú' | 'û' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'Ú' | 'Ù' | 'Û' | 'Ū' | 'Ů' => "U",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' => "y",
        'Ý' | 'Ÿ' => "Y",
        'ź' | 'ż' | 'ž' => "z",
        'Ź' | 'Ż' | 'Ž' => "Z",
        _ => "",
    }
}

/// 3GPP TS 23.038, 6.2.1: the basic alphabet, without escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// 3GPP TS 23.038, 6.2.1.1: the extension, escaped and so two septets each.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

fn is_gsm(c: char) -> bool {
    septets(c).is_some()
}

fn septets(c: char) -> Option<usize> {
    if BASIC.contains(c) {
        Some(1)
    } else {
        EXTENSION.contains(c).then_some(2)
    }
}

/// A text's alphabet, and in how many parts it goes out: 160 septets or 153 in each part, 70 units or 67 in each part. An escaped
/// character and a pair of surrogates are never torn apart.
#[must_use]
pub fn parts(text: &str) -> (Encoding, u8) {
    let gsm: Option<Vec<usize>> = text.chars().map(septets).collect();
    let (encoding, sizes, single, each) = match gsm {
        Some(sizes) => (Encoding::Gsm7, sizes, 160, 153),
        None => {
            let sizes = text.chars().map(char::len_utf16).collect();
            (Encoding::Ucs2, sizes, 70, 67)
        }
    };
    let total: usize = sizes.iter().sum();
    if total <= single {
        return (encoding, 1);
    }
    let (mut count, mut used): (usize, usize) = (1, 0);
    for size in sizes {
        if used.saturating_add(size) > each {
            count = count.saturating_add(1);
            used = 0;
        }
        used = used.saturating_add(size);
    }
    (encoding, u8::try_from(count).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "small numbers of a test; an overflow panics here"
    )]

    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn the_alphabets_are_complete() {
        // 128 places, one of which is the escape.
        assert_eq!(BASIC.chars().count(), 127);
        assert_eq!(EXTENSION.chars().count(), 10);
        assert!(!is_gsm('₹') && !is_gsm('ç') && !is_gsm('`') && is_gsm('Ç'));
    }

    #[test]
    fn parts_are_counted_at_their_limits() {
        let count = |c: &str, n: usize| parts(&c.repeat(n));
        for (c, n, encoding, segments) in [
            ("a", 160, Encoding::Gsm7, 1),
            ("a", 161, Encoding::Gsm7, 2),
            ("a", 306, Encoding::Gsm7, 2),
            ("a", 307, Encoding::Gsm7, 3),
            ("€", 80, Encoding::Gsm7, 1),
            // 81 × 2 = 162; 76 fit into a part of 153, and one septet of each part stays empty.
            ("€", 81, Encoding::Gsm7, 2),
            ("€", 152, Encoding::Gsm7, 2),
            ("€", 153, Encoding::Gsm7, 3),
            ("क", 70, Encoding::Ucs2, 1),
            ("क", 71, Encoding::Ucs2, 2),
            ("क", 134, Encoding::Ucs2, 2),
            ("क", 135, Encoding::Ucs2, 3),
            ("🙂", 35, Encoding::Ucs2, 1),
            // 33 pairs fit into a part of 67.
            ("🙂", 66, Encoding::Ucs2, 2),
            ("🙂", 67, Encoding::Ucs2, 3),
        ] {
            assert_eq!(count(c, n), (encoding, segments), "{n} × {c}");
        }
        assert_eq!(parts(""), (Encoding::Gsm7, 1));
        assert_eq!(parts(&format!("{}₹", "a".repeat(70))).1, 2);
    }

    fn of(kind: Kind) -> Template {
        let (text, variables) = kind.default_text();
        Template::new("1", text, variables).unwrap()
    }

    #[test]
    fn the_default_texts_are_templates_in_gsm_7() {
        for kind in Kind::ALL {
            let sms = of(kind)
                .fill(|v| {
                    if v == Variable::ReceiptUrl {
                        "https://s.in/abc".to_owned()
                    } else {
                        "x".repeat(99)
                    }
                })
                .text;
            assert_eq!(parts(&sms).0, Encoding::Gsm7);
            assert!(sms.ends_with("https://s.in/abc"), "{sms}");
        }
    }

    fn value(variable: Variable) -> String {
        match variable {
            Variable::CustomerName => "Pallavi “Palu” Ś.\u{a0}Iyer\n".to_owned(),
            Variable::ReferenceId => "BM345A-12".to_owned(),
            Variable::Shop => "Café – Crème ₹ पल".to_owned(),
            Variable::Amount => "840.00".to_owned(),
            Variable::ReceiptUrl => format!("https://shop.example/r/{}", "t".repeat(50)),
            Variable::PaymentId => "🙂".to_owned(),
            Variable::Status => "partially shipped".to_owned(),
        }
    }

    #[test]
    fn values_are_spelled_in_their_template_s_alphabet() {
        let template = of(Kind::Invoice);
        let sms = template.fill(value);
        assert_eq!(
            sms.text,
            format!(
                "Dear Pallavi \"Palu\" S. Iyer, your bill BM345A-12 from Café - Creme Rs. is Rs.840.00. View and pay: https://shop.example/r/{}",
                "t".repeat(50)
            )
            .replace("Creme", "Crème")
        );
        assert_eq!((sms.encoding, sms.segments), (Encoding::Gsm7, 2));
        let unicode =
            Template::new("2", "₹{#var#} {#var#}", &[Variable::Amount, Variable::Shop]).unwrap();
        let sms = unicode.fill(value);
        assert_eq!(sms.text, "₹840.00 Café – Crème ₹ पल");
        assert_eq!(sms.encoding, Encoding::Ucs2);
        let nothing_left = Template::new("3", "Id {#var#}.", &[Variable::PaymentId]).unwrap();
        assert_eq!(nothing_left.fill(value).text, "Id -.");
    }

    #[test]
    fn neighbouring_slots_share_a_value_and_others_do_not() {
        let long = |_: Variable| "0123456789".repeat(7);
        let shop = Variable::Shop;
        let shared = Template::new("1", "{#var#}{#var#}", &[shop, shop]).unwrap();
        assert_eq!(shared.fill(long).text, "0123456789".repeat(6));
        let apart = Template::new("1", "{#var#} {#var#}", &[shop, shop]).unwrap();
        assert_eq!(
            apart.fill(long).text,
            format!("{0} {0}", "0123456789".repeat(3))
        );
        let tagged = Template::new("1", "{#url#}", &[Variable::ReceiptUrl]).unwrap();
        assert_eq!(tagged.fill(long).text.len(), 70);
    }

    #[test]
    fn a_text_and_its_variables_must_fit() {
        let new =
            |text: &str, variables: &[Variable]| Template::new("1", text, variables).map(|_| ());
        assert_eq!(
            new(
                "a {#var#} {#alphanumeric#}",
                &[Variable::Shop, Variable::Status]
            ),
            Ok(())
        );
        assert_eq!(
            new("{#var#}", &[]),
            Err(InvalidTemplate::Count {
                slots: 1,
                variables: 0
            })
        );
        assert_eq!(
            new("Rs {#numeric#}", &[Variable::Amount]),
            Err(InvalidTemplate::Slot("numeric".to_owned()))
        );
        assert_eq!(new("open {#var", &[]), Ok(()));
    }

    fn read(document: &Value) -> Result<Templates, Vec<String>> {
        let mut faults = Vec::new();
        let wrapped = json!({"t": document});
        let read = json::object(&wrapped, "", &mut faults, |f| Templates::read(f, "t"));
        match read {
            Some(templates) if faults.is_empty() => Ok(templates),
            _ => Err(faults.into_iter().map(|f| f.pointer).collect()),
        }
    }

    #[test]
    fn a_tenant_s_templates_are_read_with_their_faults() {
        let own =
            json!({"id": "1107", "text": "{#var#} pays {#var#}", "variables": ["shop", "amount"]});
        let templates = read(&json!({"invoice": "1107161234567890123", "paid": own})).unwrap();
        assert_eq!(templates.0.len(), 2);
        for (document, pointer) in [
            (json!({"invoice": "1"}), "/t/paid"),
            (json!({"invoice": "", "paid": "1"}), "/t/invoice"),
            (json!({"invoice": "1 2", "paid": "1"}), "/t/invoice"),
            (json!({"invoice": 5, "paid": "1"}), "/t/invoice"),
            (
                json!({"invoice": "1", "paid": "1", "thanks": "1"}),
                "/t/thanks",
            ),
            (
                json!({"invoice": {"id": "1", "text": "{#var#}", "variables": []}, "paid": "1"}),
                "/t/invoice/text",
            ),
            (
                json!({"invoice": {"id": "1", "text": "{#var#}", "variables": ["price"]}, "paid": "1"}),
                "/t/invoice/variables",
            ),
            (
                json!({"invoice": {"id": "?", "text": "x", "variables": []}, "paid": "1"}),
                "/t/invoice/id",
            ),
        ] {
            let faults = read(&document).unwrap_err();
            assert!(
                faults.contains(&pointer.to_owned()),
                "{document}: {faults:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_plain_template_stays_plain_and_no_value_outgrows_its_slot(value in "\\PC{0,80}") {
            let template = Template::new("1", "<{#var#}>", &[Variable::Shop]).unwrap();
            let sms = template.fill(|_| value.clone());
            prop_assert_eq!(sms.encoding, Encoding::Gsm7);
            let inside = sms.text.strip_prefix('<').unwrap().strip_suffix('>').unwrap();
            prop_assert!((1..=SLOT).contains(&inside.chars().count()));
        }

        #[test]
        fn spelling_twice_changes_nothing(value in "\\PC{0,80}") {
            let once = spelled(&value, true);
            prop_assert_eq!(spelled(&once, true), once);
        }

        #[test]
        fn parts_hold_the_text_and_never_one_more_than_needed(text in "[a-z€^क🙂]{0,400}") {
            let (encoding, count) = parts(&text);
            let sizes: Vec<usize> = text.chars().map(|c| match encoding {
                Encoding::Gsm7 => septets(c).unwrap(),
                Encoding::Ucs2 => c.len_utf16(),
            }).collect();
            let total: usize = sizes.iter().sum();
            let (single, each) = if encoding == Encoding::Gsm7 { (160, 153) } else { (70, 67) };
            if total <= single {
                prop_assert_eq!(count, 1);
            } else {
                // Room for all of it, and each part but the last lacks at most one unit, which a pair did not fit into.
                let count = usize::from(count);
                prop_assert!(count * each >= total);
                prop_assert!((count - 1) * (each - 1) < total);
            }
        }

        #[test]
        fn a_longer_text_never_has_fewer_parts(text in "[a-z€क]{0,300}", more in "[a-z€क]{0,50}") {
            let longer = format!("{text}{more}");
            prop_assert!(parts(&longer).1 >= parts(&text).1);
        }

        #[test]
        fn a_link_is_never_cut(link in "https://[a-z]{1,20}\\.in/r/[A-Za-z0-9._-]{1,150}") {
            for kind in Kind::ALL {
                let text = of(kind).fill(|v| if v == Variable::ReceiptUrl { link.clone() } else { "x".to_owned() }).text;
                prop_assert!(text.ends_with(&link), "{}", text);
            }
        }
    }
}
