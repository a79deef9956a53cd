//! Kaleyra.io: WhatsApp Pay messages, payment status and refunds, and SMS with DLT templates.
//!
//! Written from Kaleyra's page "Send WhatsApp Pay Messages" and its pages on SMS, templates and callback profiles. A
//! callback profile's body is the customer's own: a text with variables, which the account gives here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::order_details::{Leniency, Payment};
use super::sms::{Dlt, Parts, Scrubbed, parts};
use super::whatsapp::{
    Configuration, Content, Key, NoRefund, NoSms, Phones, Placed, RefundsEnd, Refusal, Strictness,
    Tapped, Template, Transaction, digits_of, read_interactive, read_template, strict, wa_id,
};
use super::{Act, Outcome, Refused, Vendor, merged, wanted};
use crate::calendar::date_and_time;
use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};
use crate::strict::{Fields, Problem};

const OPERATIONS: &[&str] = &[
    "send_message.order_details",
    "send_message.order_status",
    "send_message.template_body",
    "send_message.text",
    "send_message.other",
    "send_sms",
    "lookup_payment",
    "refund_payment",
    "unknown",
];

const EVENTS: &[&str] = &[
    "status.sent",
    "status.delivered",
    "status.read",
    "status.failed",
    "payment.captured",
    "payment.pending",
    "message",
    "sms.delivered",
    "sms.failed",
    "forged",
];

/// What a callback's body may name, as `{name}`.
const VARIABLES: &[&str] = &[
    "amount",
    "body",
    "channel",
    "created_at",
    "currency",
    "error",
    "error_code",
    "event",
    "from",
    "id",
    "message_id",
    "method",
    "mobile",
    "name",
    "offset",
    "payment_config_id",
    "payment_status",
    "profile_name",
    "recipient",
    "ref",
    "ref1",
    "ref2",
    "ref_custom",
    "reference_id",
    "sender",
    "status",
    "text",
    "timestamp",
    "to",
    "trace",
    "transaction_id",
    "transaction_status",
    "transaction_type",
    "type",
    "units",
    "wanumber",
];

/// The words and trace codes of SMS reports, for those that are planned.
const WORDS: &[&str] = &[
    "SUBMITTED",
    "DELIVRD",
    "SENT - NO DLR",
    "Undelivered",
    "NOT-SENT",
    "ENROUTE",
    "EXPIRED",
];
const TRACES: &[&str] = &[
    "NO-CREDITS",
    "BLACKLIST",
    "CON-DND",
    "TEMPLATE-NOT-FOUND",
    "OPT-OUT",
    "INVALID-SUB",
    "MOB-OFF",
    "NOTALLOWED",
    "KYC-NOT-APPROVED",
];

/// The body of a callback: one text for all events, or one for each; an event without is not subscribed.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Body {
    One(String),
    Each(Bodies),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bodies {
    status: Option<String>,
    payment: Option<String>,
    message: Option<String>,
    sms: Option<String>,
}

impl Body {
    /// The text for an event, by the event's first word.
    fn of(&self, event: &str) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::Each(bodies) => match event.split('.').next().unwrap_or_default() {
                "status" => bodies.status.as_deref(),
                "payment" => bodies.payment.as_deref(),
                "message" => bodies.message.as_deref(),
                "sms" => bodies.sms.as_deref(),
                _ => None,
            },
        }
    }

    fn check(&self) -> Result<(), Refused> {
        let texts = match self {
            Self::One(text) => vec![text.as_str()],
            Self::Each(bodies) => [
                &bodies.status,
                &bodies.payment,
                &bodies.message,
                &bodies.sms,
            ]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect(),
        };
        for text in texts {
            if let Some(unknown) =
                pieces(text).find_map(|(_, name)| name.filter(|name| !VARIABLES.contains(name)))
            {
                return Err(Refused::invalid(format!(
                    "kaleyra: no variable is called {{{unknown}}}; there are {VARIABLES:?}"
                )));
            }
        }
        Ok(())
    }
}

/// A callback's body, cut where variables stand: text, then the variable after it. A brace that does not enclose a name,
/// as JSON has them, is text.
fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let found = text.match_indices('{').find_map(|(open, _)| {
            let inside = text.get(open.saturating_add(1)..)?;
            let (name, after) = inside.split_once('}')?;
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            is_name.then_some((text.get(..open)?, name, after))
        });
        match found {
            Some((before, name, after)) => {
                rest = Some(after);
                Some((before, Some(name)))
            }
            None => {
                rest = None;
                Some((text, None))
            }
        }
    })
}

/// Callback profile: made in the dashboard, named by its id in a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    id: String,
    url: String,
    /// Static headers, which prove that it is Kaleyra who calls.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum PaymentNumber {
    /// Either.
    #[default]
    Any,
    /// The business's, as the samples read.
    Business,
    /// The customer's, as the table reads.
    Customer,
}

fn bad_request() -> u16 {
    400
}

/// An account, as `POST /_control/accounts` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    sid: String,
    api_key: String,
    /// The WhatsApp number.
    #[serde(default)]
    from: String,
    /// The first of them also gets inbound messages, and payments of messages that name none.
    #[serde(default)]
    callback_profiles: Vec<Profile>,
    /// What a bare `callback_url` gets; nothing if left out, because no page shows it.
    #[serde(default)]
    callback_url_body: Option<Body>,
    #[serde(default)]
    configurations: Vec<Configuration>,
    #[serde(default)]
    templates: Vec<Template>,
    /// The HTTP status of the documented error envelope, which no page states.
    #[serde(default = "bad_request")]
    error_status: u16,
    /// Whose number the payment calls want.
    #[serde(default)]
    payment_number: PaymentNumber,
    /// Whether UPI intent and payment links go through as well: the page knows `payment_gateway` only.
    #[serde(default)]
    any_payment_type: bool,
    #[serde(default)]
    importer_fields: Strictness,
    #[serde(default = "strict")]
    upi_link_params: Strictness,
    #[serde(default)]
    refunds: RefundsEnd,
    /// What is registered with the operators; the entity is bound to the header.
    #[serde(default)]
    dlt: Dlt,
}

/// Where reports about a message go.
#[derive(Debug, Clone)]
enum Target {
    Profile(String),
    Url(String, BTreeMap<String, String>),
}

/// What was accepted for one recipient.
#[derive(Debug, Clone)]
struct Message {
    account: String,
    to: String,
    channel: &'static str,
    kind: String,
    sender: String,
    reference_id: Option<String>,
    configuration: Option<String>,
    refs: Vec<(&'static str, String)>,
    target: Option<Target>,
    status: &'static str,
    parts: Parts,
    at: i64,
    body: Value,
}

/// Kaleyra.
#[derive(Debug, Default)]
pub(crate) struct Kaleyra {
    accounts: BTreeMap<String, Account>,
    /// The accounts as they were given.
    said: BTreeMap<String, Value>,
    messages: BTreeMap<String, Message>,
    order_of_arrival: Vec<String>,
    phones: Phones,
}

/// Every wrong field and why, as the error envelope lists them.
type Wrong = Map<String, Value>;

fn wrong(field: &str, why: impl Into<String>) -> Wrong {
    let mut wrong = Wrong::new();
    wrong.insert(field.to_owned(), why.into().into());
    wrong
}

fn envelope(status: u16, code: &str, message: &str, error: Wrong) -> Answer {
    Answer::json(
        status,
        &json!({"code": code, "message": message, "data": [], "error": error}),
    )
}

/// "E413": the only error of the message calls that is printed.
fn invalid(account: &Account, error: Wrong) -> Answer {
    envelope(
        account.error_status,
        "E413",
        "Invalid/incorrect inputs",
        error,
    )
}

/// "WA400": the only error of the payment calls that is printed; its message is the field's.
fn payment_error(account: &Account, field: &str, why: &str) -> Answer {
    envelope(account.error_status, "WA400", why, wrong(field, why))
}

fn uuid(desk: &mut Desk) -> String {
    let hex: String = desk
        .id(32)
        .bytes()
        .filter_map(|byte| char::from_digit(u32::from(byte % 16), 16))
        .collect();
    let cut = |from, to| hex.get(from..to).unwrap_or_default();
    [cut(0, 8), cut(8, 12), cut(12, 16), cut(16, 20), cut(20, 32)].join("-")
}

/// A form and what was wrong with it.
struct Form {
    fields: Vec<(String, String)>,
    wrong: Wrong,
}

impl Form {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn complain(&mut self, field: &str, why: impl Into<String>) {
        self.wrong
            .entry(field.to_owned())
            .or_insert_with(|| why.into().into());
    }

    fn only(&mut self, allowed: &[&str]) {
        let unknown: Vec<String> = self
            .fields
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !allowed.contains(&name.as_str()))
            .collect();
        for name in unknown {
            self.complain(&name, format!("{name} is not a field of this request"));
        }
    }

    fn text(&mut self, name: &str, max: usize) -> Option<String> {
        let value = self.get(name)?.to_owned();
        if value.chars().count() > max {
            self.complain(name, format!("{name} must not exceed {max} characters"));
        }
        Some(value)
    }

    fn need(&mut self, name: &str, max: usize) -> String {
        match self.text(name, max) {
            Some(value) => value,
            None => {
                self.complain(name, format!("{name} field is mandatory"));
                String::new()
            }
        }
    }

    /// "You can add multiple numbers, separate each number using the comma".
    fn recipients(&mut self) -> Vec<String> {
        let to = self.need("to", 10_000);
        let read: Result<Vec<String>, Refusal> =
            to.split(',').map(|number| wa_id(number.trim())).collect();
        match read {
            Ok(recipients) => recipients,
            Err(_) => {
                self.complain("to", "to must be mobile numbers with country code");
                Vec::new()
            }
        }
    }

    /// Where reports go.
    fn target(&mut self, account: &Account) -> Option<Target> {
        if let Some(id) = self.get("callback_profile_id").map(str::to_owned) {
            if !account.callback_profiles.iter().any(|known| known.id == id) {
                self.complain("callback_profile_id", "callback_profile_id is not valid");
            }
            return Some(Target::Profile(id));
        }
        if let Some(url) = self.get("callback_url") {
            return Some(Target::Url(url.to_owned(), BTreeMap::new()));
        }
        let callback = self.get("callback")?.to_owned();
        match serde_json::from_str::<Callback>(&callback) {
            Ok(callback) => Some(Target::Url(callback.url, callback.header)),
            Err(error) => {
                self.complain("callback", format!("callback is not valid: {error}"));
                None
            }
        }
    }
}

/// The `callback` of an SMS: its own URL and headers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Callback {
    url: String,
    #[serde(default, rename = "method")]
    _method: Option<String>,
    #[serde(default)]
    header: BTreeMap<String, String>,
    #[serde(default, rename = "retry")]
    _retry: Option<Value>,
}

/// What an accepted call carries.
struct Accepted {
    kind: String,
    channel: &'static str,
    sender: String,
    body: String,
    recipients: Vec<String>,
    target: Option<Target>,
    content: Content,
    needs_window: bool,
    shown: Value,
    refs: Vec<(&'static str, String)>,
}

impl Vendor for Kaleyra {
    fn name(&self) -> &'static str {
        "kaleyra"
    }

    fn operations(&self) -> &'static [&'static str] {
        OPERATIONS
    }

    fn events(&self) -> &'static [&'static str] {
        EVENTS
    }

    fn operation(&self, call: &Call) -> &'static str {
        let (method, segments) = call.route();
        match (method, segments.as_slice()) {
            ("POST", ["v1", _, "messages"]) => {
                let form = call.form().unwrap_or_default();
                let field = |name: &str| {
                    form.iter()
                        .find(|(found, _)| found == name)
                        .map_or("", |(_, value)| value.as_str())
                };
                if !field("channel").eq_ignore_ascii_case("whatsapp") {
                    return "send_sms";
                }
                match field("type") {
                    "order_details" => "send_message.order_details",
                    "order_status" => "send_message.order_status",
                    "template" => "send_message.template_body",
                    "text" => "send_message.text",
                    _ => "send_message.other",
                }
            }
            ("POST", ["v1", _, "sms"]) => "send_sms",
            ("GET", ["v1", _, "whatsapp", "payment", "status"]) => "lookup_payment",
            ("POST", ["v1", _, "whatsapp", "payment", "refund"]) => "refund_payment",
            _ => "unknown",
        }
    }

    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let (method, segments) = call.route();
        let key = call.header("api-key").unwrap_or_default();
        let sid = segments.get(1).copied().unwrap_or_default();
        let Some(account) = self
            .accounts
            .get(sid)
            .filter(|account| account.api_key == key)
            .cloned()
        else {
            return envelope(401, "E401", "Unauthorized", Wrong::new());
        };
        let mut answer = match (method, segments.as_slice()) {
            ("POST", ["v1", _, "messages"]) => {
                let form = call.form().unwrap_or_default();
                let is_whatsapp = form
                    .iter()
                    .any(|(name, value)| name == "channel" && !value.eq_ignore_ascii_case("sms"));
                self.send(&account, form, is_whatsapp, desk)
            }
            ("POST", ["v1", _, "sms"]) => {
                self.send(&account, call.form().unwrap_or_default(), false, desk)
            }
            ("GET", ["v1", _, "whatsapp", "payment", "status"]) => self.lookup(&account, call),
            ("POST", ["v1", _, "whatsapp", "payment", "refund"]) => {
                self.refund(&account, call, desk)
            }
            _ => envelope(404, "E404", "Not found", Wrong::new()),
        };
        answer.account = Some(account.sid);
        answer
    }

    fn error(&self, status: u16, code: Option<i64>, _desk: &mut Desk) -> Value {
        let code = code.unwrap_or_else(|| i64::from(status));
        json!({
            "code": format!("E{code}"),
            "message": "Planned by the sandbox's control API.",
            "data": [],
            "error": {},
        })
    }

    fn register(&mut self, account: &Value) -> Result<(), Refused> {
        let (sid, said) = merged(&self.said, "sid", account)?;
        let account: Account = serde_json::from_value(said.clone())
            .map_err(|error| Refused::invalid(format!("kaleyra: {error}")))?;
        for profile in &account.callback_profiles {
            profile.body.check()?;
        }
        if let Some(body) = &account.callback_url_body {
            body.check()?;
        }
        self.said.insert(sid.clone(), said);
        self.accounts.insert(sid, account);
        Ok(())
    }

    fn tick(&mut self, _desk: &mut Desk) {}

    fn owns(&self, _link: &str) -> bool {
        false
    }

    fn customer(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        match act {
            Act::Message => self.message_in(request, desk),
            Act::Read => self.read(request, desk),
            Act::Pay | Act::Fail | Act::Cancel => self.pay(act, request, desk),
        }
    }

    fn mirror(&mut self, mirror: &Mirror, desk: &mut Desk) {
        // No page says that a refund is reported: it is only remembered, so that no more than was paid can go back.
        self.phones.hear("kaleyra", mirror, desk.now());
    }

    fn settle_refund(
        &mut self,
        id: &str,
        status: &str,
        _speed: Option<&str>,
        desk: &mut Desk,
    ) -> Result<Value, Refused> {
        let (_, status) = self.phones.settle("kaleyra", id, status, desk)?;
        Ok(json!({"id": id, "status": status}))
    }

    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        signature: Option<&str>,
        _desk: &mut Desk,
    ) -> Result<HookDraft, Refused> {
        let account = self.one(account)?;
        let profile = account
            .callback_profiles
            .first()
            .ok_or_else(|| Refused::unknown("the account has no callback profile"))?;
        // Kaleyra's signature is the profile's static headers.
        let mut headers = profile.headers.clone();
        if let Some(signature) = signature {
            for value in headers.values_mut() {
                signature.clone_into(value);
            }
        }
        Ok(draft(
            account,
            "forged",
            profile.url.clone(),
            &headers,
            body,
            None,
        ))
    }

    fn inbox(&self, phone: &str) -> Vec<Value> {
        let phone = digits_of(phone);
        self.order_of_arrival
            .iter()
            .filter_map(|id| Some((id, self.messages.get(id)?)))
            .filter(|(_, message)| message.to == phone && message.status != "failed")
            .map(|(id, message)| {
                let mut shown = json!({
                    "channel": message.channel,
                    "vendor": "kaleyra",
                    "account": message.account,
                    "id": id,
                    "at": message.at,
                    "kind": message.kind,
                    "reference_id": message.reference_id,
                    "status": message.status,
                    "body": message.body,
                });
                if let (true, Some(map)) = (message.channel == "sms", shown.as_object_mut()) {
                    map.remove("body");
                    map.insert("from".to_owned(), message.sender.as_str().into());
                    map.insert("text".to_owned(), message.body.clone());
                    map.insert("encoding".to_owned(), message.parts.encoding.into());
                    map.insert("segments".to_owned(), message.parts.count.into());
                }
                shown
            })
            .collect()
    }

    fn set_phone(&mut self, phone: &str, request: &Value) {
        self.phones.set(phone, request);
    }
}

fn draft(
    account: &Account,
    event: &str,
    url: String,
    headers: &BTreeMap<String, String>,
    body: Vec<u8>,
    reference_id: Option<&str>,
) -> HookDraft {
    let mut all: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !is_named(headers, "content-type") {
        all.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    HookDraft {
        vendor: "kaleyra",
        account: account.sid.clone(),
        event: event.to_owned(),
        reference_id: reference_id.map(str::to_owned),
        url,
        headers: all,
        body,
    }
}

fn is_named(headers: &BTreeMap<String, String>, wanted: &str) -> bool {
    headers.keys().any(|name| name.eq_ignore_ascii_case(wanted))
}

/// Sends a callback, if its target wants this event.
fn emit(
    account: &Account,
    target: Option<&Target>,
    event: &str,
    variables: &[(&str, String)],
    desk: &mut Desk,
) {
    let Some(target) = target else {
        return;
    };
    let none = BTreeMap::new();
    let (url, headers, body) = match target {
        Target::Profile(id) => {
            let Some(profile) = account
                .callback_profiles
                .iter()
                .find(|known| known.id == *id)
            else {
                return;
            };
            (&profile.url, &profile.headers, Some(&profile.body))
        }
        Target::Url(url, headers) => (
            url,
            if headers.is_empty() { &none } else { headers },
            account.callback_url_body.as_ref(),
        ),
    };
    let Some(text) = body.and_then(|body| body.of(event)) else {
        return;
    };
    let is_form = headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-type") && value.contains("urlencoded")
    });
    let filled: String = pieces(text)
        .map(|(before, name)| {
            let value = name
                .and_then(|name| variables.iter().find(|(known, _)| *known == name))
                .map_or("", |(_, value)| value.as_str());
            let value = if is_form {
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC)
                    .to_string()
            } else {
                // As inside a JSON string; its quotes are the template's.
                let quoted = Value::from(value).to_string();
                quoted
                    .trim_start_matches('"')
                    .strip_suffix('"')
                    .unwrap_or_default()
                    .to_owned()
            };
            format!("{before}{value}")
        })
        .collect();
    let reference = variables
        .iter()
        .find(|(name, value)| *name == "reference_id" && !value.is_empty())
        .map(|(_, value)| value.as_str());
    desk.send(draft(
        account,
        event,
        url.clone(),
        headers,
        filled.into_bytes(),
        reference,
    ));
}

/// Reads a WhatsApp request.
fn read_whatsapp(
    account: &Account,
    form: &mut Form,
    phones: &Phones,
    now: i64,
) -> Option<Accepted> {
    const COMMON: &[&str] = &[
        "to",
        "type",
        "channel",
        "from",
        "callback_url",
        "callback_profile_id",
    ];
    let kind = form.need("type", 60);
    let own: &[&str] = match kind.as_str() {
        "order_details" => &["body", "footer", "header", "action"],
        "order_status" => &["body", "footer", "action"],
        "text" => &["body"],
        "template" => &["template_name", "params", "lang_code", "param_url"],
        "" => &["body", "footer", "header", "action"],
        other => {
            let why = format!("type {other:?} is not supported");
            form.complain("type", why);
            return None;
        }
    };
    form.only(&[COMMON, own].concat());
    if form.get("channel") != Some("WhatsApp") {
        form.complain("channel", "channel must be WhatsApp");
    }
    let sender = form.need("from", 40);
    if !sender.is_empty() && digits_of(&sender) != digits_of(&account.from) {
        form.complain("from", "from is not a WhatsApp number of this account");
    }
    let recipients = form.recipients();
    let target = form.target(account);
    let mut body = String::new();
    if kind != "template" {
        if form.get("body").is_none() {
            let why = format!("For the type {kind}, body field is mandatory and cannot be empty!");
            form.complain("body", why);
        }
        let longest = if kind == "text" { 4096 } else { 1024 };
        body = form.text("body", longest).unwrap_or_default();
    }
    let footer = form.text("footer", 60);
    let header = form.text("header", 60);
    let leniency = Leniency {
        importer_fields: account.importer_fields == Strictness::Lenient,
        legacy_payment: false,
        upi_link_params: account.upi_link_params == Strictness::Lenient,
        totals: false,
    };
    let mut shown = json!({"body": body});
    let content = match kind.as_str() {
        "order_details" | "order_status" => {
            let text = form.need("action", usize::MAX);
            let Ok(mut action) = serde_json::from_str::<Value>(&text) else {
                form.complain("action", "action must be valid JSON");
                return None;
            };
            // The samples write "Review_and_Pay", the tables "review_and_pay".
            if kind == "order_details"
                && let Some(name) = action.get_mut("name")
                && *name == "Review_and_Pay"
            {
                *name = json!("review_and_pay");
            }
            shown = json!({"body": body, "header": header, "footer": footer, "action": action});
            let mut message = json!({
                "type": kind,
                // What is wrong with these texts is said of their own fields.
                "body": {"text": "x"},
                "action": action,
            });
            if let (Some(_), Some(map)) = (header, message.as_object_mut()) {
                map.insert("header".to_owned(), json!({"type": "text", "text": "x"}));
            }
            match read_interactive(&message, "", now, leniency) {
                Ok(content) => content,
                Err(refusal) => {
                    form.complain("action", refusal.details);
                    return None;
                }
            }
        }
        "template" => match read_named_template(account, form, now, leniency) {
            Ok(template) => {
                shown = template.0;
                template.1
            }
            Err(refusal) => {
                form.complain("template_name", refusal.details);
                return None;
            }
        },
        _ => Content::Plain,
    };
    if let Content::Order(order) = &content {
        match &order.payment {
            Payment::Gateway { gateway, .. }
                if !["razorpay", "payu"].contains(&gateway.as_str()) =>
            {
                form.complain("action", "payment_gateway.type must be razorpay or payu");
            }
            Payment::UpiIntent(_) | Payment::Link(_) if !account.any_payment_type => {
                form.complain("action", "payment_settings.type must be payment_gateway");
            }
            _ => {}
        }
    }
    if let Err(refusal) = phones.check_unused(&account.sid, &content) {
        form.complain("action", refusal.details);
    }
    Some(Accepted {
        needs_window: kind != "template",
        kind,
        channel: "whatsapp",
        sender,
        body,
        recipients,
        target,
        content,
        shown,
        refs: Vec::new(),
    })
}

/// `template_name`, `lang_code`, `params` and `param_url` as the template Meta is sent.
fn read_named_template(
    account: &Account,
    form: &mut Form,
    now: i64,
    leniency: Leniency,
) -> Result<(Value, Content), Refusal> {
    let name = form.need("template_name", 512);
    let language = form.need("lang_code", 20);
    let text = |text: &str| json!({"type": "text", "text": text});
    let mut components = Vec::new();
    if let Some(params) = form.get("params") {
        // Quoted and separated by commas; without quotes just separated.
        let params: Vec<String> =
            serde_json::from_str(&format!("[{params}]")).unwrap_or_else(|_| {
                params
                    .split(',')
                    .map(|param| param.trim().to_owned())
                    .collect()
            });
        let params: Vec<Value> = params.iter().map(|param| text(param)).collect();
        components.push(json!({"type": "body", "parameters": params}));
    }
    if let Some(url) = form.get("param_url") {
        components.push(json!({
            "type": "button", "sub_type": "url", "index": "0", "parameters": [text(url)],
        }));
    }
    let template = json!({
        "name": name,
        "language": {"policy": "deterministic", "code": language},
        "components": components,
    });
    let content = read_template(&template, "", &account.templates, now, leniency)?;
    Ok((json!({"template": template}), content))
}

/// Reads an SMS.
fn read_sms(account: &Account, form: &mut Form) -> Accepted {
    form.only(&[
        "to",
        "sender",
        "type",
        "channel",
        "body",
        "template_id",
        "unicode",
        "flash",
        "time",
        "prefix",
        "ref",
        "ref1",
        "ref2",
        "ref_custom",
        "callback",
        "callback_url",
        "callback_profile_id",
    ]);
    let kind = form.need("type", 60);
    let sender = form.need("sender", 20);
    let body = form.need("body", 2000);
    let refs = ["ref", "ref1", "ref2", "ref_custom"]
        .into_iter()
        .filter_map(|name| Some((name, form.get(name)?.to_owned())))
        .collect();
    Accepted {
        kind,
        channel: "sms",
        sender,
        recipients: form.recipients(),
        target: form.target(account),
        content: Content::Plain,
        needs_window: false,
        shown: body.as_str().into(),
        body,
        refs,
    }
}

/// What becomes of an SMS: the report's word, and the trace code if it does not arrive.
fn sms_end(
    account: &Account,
    accepted: &Accepted,
    template: Option<&str>,
    arrives: Result<(), NoSms>,
) -> (&'static str, &'static str) {
    let entity = account.dlt.entity_id.as_deref();
    match account
        .dlt
        .scrub(&accepted.sender, entity, template, &accepted.body)
    {
        Ok(()) => match arrives {
            Ok(()) => ("DELIVRD", ""),
            Err(NoSms::Off) => ("Undelivered", "MOB-OFF"),
            Err(NoSms::Undisturbed) => ("NOT-SENT", "CON-DND"),
        },
        Err(
            Scrubbed::TemplateId
            | Scrubbed::NoTemplate
            | Scrubbed::Inactive
            | Scrubbed::Mismatch
            | Scrubbed::TooLong,
        ) => ("NOT-SENT", "TEMPLATE-NOT-FOUND"),
        Err(Scrubbed::Blacklisted) => ("NOT-SENT", "BLACKLIST"),
        Err(Scrubbed::Sender | Scrubbed::NoEntity | Scrubbed::Entity | Scrubbed::Link) => {
            ("NOT-SENT", "NOTALLOWED")
        }
    }
}

impl Kaleyra {
    fn one(&self, sid: Option<&str>) -> Result<&Account, Refused> {
        match sid {
            Some(sid) => self.accounts.get(sid),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such Kaleyra account"))
    }

    /// `POST /v1/<SID>/messages` and `POST /v1/<SID>/sms`.
    fn send(
        &mut self,
        account: &Account,
        fields: Vec<(String, String)>,
        is_whatsapp: bool,
        desk: &mut Desk,
    ) -> Answer {
        let mut form = Form {
            fields,
            wrong: Wrong::new(),
        };
        let read = if is_whatsapp {
            read_whatsapp(account, &mut form, &self.phones, desk.now())
        } else {
            Some(read_sms(account, &mut form))
        };
        let accepted = match read {
            Some(accepted) if form.wrong.is_empty() => accepted,
            _ => return invalid(account, form.wrong),
        };
        let id = uuid(desk);
        let (date, time) = date_and_time(desk.now(), 0);
        let data: Vec<Value> = accepted
            .recipients
            .iter()
            .enumerate()
            .map(|(index, recipient)| {
                json!({"message_id": format!("{id}:{index}"), "recipient": recipient})
            })
            .collect();
        let answer = Answer::json(
            202,
            &json!({
                "id": id,
                "type": accepted.kind,
                "body": accepted.body,
                "createdDateTime": format!("{date} {time}+00:00"),
                "totalCount": data.len(),
                "data": data,
                "error": {},
            }),
        );
        let reference_id = match &accepted.content {
            Content::Order(order) => Some(order.reference_id.clone()),
            Content::Status { reference_id, .. } => Some(reference_id.clone()),
            Content::Plain => accepted
                .refs
                .iter()
                .find(|(name, _)| *name == "ref_custom")
                .or_else(|| accepted.refs.first())
                .map(|(_, value)| value.clone()),
        };
        let configuration = match &accepted.content {
            Content::Order(order) => match &order.payment {
                Payment::Gateway { configuration, .. } => Some(configuration.clone()),
                _ => None,
            },
            _ => None,
        };
        let template = form.get("template_id").map(str::to_owned);
        for (index, recipient) in accepted.recipients.iter().enumerate() {
            let message_id = format!("{id}:{index}");
            self.messages.insert(
                message_id.clone(),
                Message {
                    account: account.sid.clone(),
                    to: recipient.clone(),
                    channel: accepted.channel,
                    kind: match accepted.channel {
                        "sms" => "sms".to_owned(),
                        _ => accepted.kind.clone(),
                    },
                    sender: accepted.sender.clone(),
                    reference_id: reference_id.clone(),
                    configuration: configuration.clone(),
                    refs: accepted.refs.clone(),
                    target: accepted.target.clone(),
                    status: "accepted",
                    parts: parts(&accepted.body),
                    at: desk.now(),
                    body: accepted.shown.clone(),
                },
            );
            self.order_of_arrival.push(message_id.clone());
            let planned = desk.next_async_error.take();
            if accepted.channel == "sms" {
                let arrives = self.phones.sms(recipient, accepted.kind == "MKT");
                let (word, trace) = match planned {
                    Some(planned) => {
                        let said = |name: &str, known: &[&'static str], otherwise| {
                            let wanted = wanted(&planned, name).unwrap_or_default();
                            let found = known.iter().find(|known| **known == wanted);
                            found.copied().unwrap_or(otherwise)
                        };
                        (
                            said("status", WORDS, "Undelivered"),
                            said("trace", TRACES, "MOB-OFF"),
                        )
                    }
                    None => sms_end(account, &accepted, template.as_deref(), arrives),
                };
                if desk.settings.delivery_reports || word != "DELIVRD" {
                    self.report_sms(&message_id, word, trace, desk);
                }
            } else {
                self.deliver(account, &message_id, recipient, &accepted, planned, desk);
            }
        }
        match reference_id {
            Some(reference) => answer.about(reference),
            None => answer,
        }
    }

    /// What becomes of a WhatsApp message.
    fn deliver(
        &mut self,
        account: &Account,
        message_id: &str,
        recipient: &str,
        accepted: &Accepted,
        planned: Option<Value>,
        desk: &mut Desk,
    ) {
        let is_open = self.phones.is_open(&account.sid, recipient, desk.now());
        let error = if let Some(planned) = planned {
            let code = planned.get("code").and_then(Value::as_i64);
            Some(Refusal::new(
                code.unwrap_or(131_000),
                "Planned by the sandbox's control API.",
            ))
        } else if accepted.needs_window && !is_open {
            Some(Refusal::new(131_047, "Re-engagement message"))
        } else if !self.phones.is_reachable(recipient) {
            Some(Refusal::new(131_026, "Message undeliverable"))
        } else {
            self.phones
                .apply(&account.sid, &account.sid, recipient, &accepted.content)
        };
        if let Some(error) = error {
            self.report(message_id, "failed", Some(&error), desk);
        } else if desk.settings.delivery_reports {
            self.report(message_id, "sent", None, desk);
            self.report(message_id, "delivered", None, desk);
        }
    }

    fn report(
        &mut self,
        message_id: &str,
        status: &'static str,
        error: Option<&Refusal>,
        desk: &mut Desk,
    ) {
        let Some(message) = self.messages.get_mut(message_id) else {
            return;
        };
        message.status = status;
        let Some(account) = self.accounts.get(&message.account) else {
            return;
        };
        let mut variables = about(message_id, message, desk.now());
        variables.extend([
            ("event", "message_status".to_owned()),
            ("status", status.to_owned()),
            (
                "error_code",
                error
                    .map(|error| error.code.to_string())
                    .unwrap_or_default(),
            ),
            (
                "error",
                error.map(|error| error.details.clone()).unwrap_or_default(),
            ),
        ]);
        let event = format!("status.{status}");
        emit(account, message.target.as_ref(), &event, &variables, desk);
    }

    fn report_sms(&mut self, message_id: &str, word: &str, trace: &str, desk: &mut Desk) {
        let Some(message) = self.messages.get_mut(message_id) else {
            return;
        };
        let is_delivered = word == "DELIVRD";
        message.status = if is_delivered { "delivered" } else { "failed" };
        let Some(account) = self.accounts.get(&message.account) else {
            return;
        };
        let mut variables = about(message_id, message, desk.now());
        variables.extend([
            ("event", "sms_status".to_owned()),
            ("status", word.to_owned()),
            ("trace", trace.to_owned()),
            ("units", message.parts.count.to_string()),
        ]);
        let event = if is_delivered {
            "sms.delivered"
        } else {
            "sms.failed"
        };
        emit(account, message.target.as_ref(), event, &variables, desk);
    }

    /// A customer writes: the window opens for 24 hours, and the shop is told.
    fn message_in(&mut self, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let phone = digits_of(
            wanted(request, "phone").ok_or_else(|| Refused::invalid("phone is missing"))?,
        );
        let account = self.one(wanted(request, "account"))?.clone();
        let until = self.phones.open_window(&account.sid, &phone, desk.now());
        let id = uuid(desk);
        let target = account
            .callback_profiles
            .first()
            .map(|profile| Target::Profile(profile.id.clone()));
        let name = wanted(request, "name").unwrap_or("Pallavi").to_owned();
        let said = wanted(request, "text").unwrap_or("Hi").to_owned();
        let variables = [
            ("event", "incoming_message".to_owned()),
            ("channel", "WhatsApp".to_owned()),
            ("type", "text".to_owned()),
            ("id", id.clone()),
            ("message_id", id.clone()),
            ("to", digits_of(&account.from)),
            ("profile_name", name.clone()),
            ("text", said.clone()),
            ("timestamp", desk.now().to_string()),
            // "Create Callback Profile for Incoming WhatsApp Messages".
            ("name", name),
            ("body", said),
            ("created_at", desk.now().to_string()),
            ("wanumber", digits_of(&account.from)),
            ("mobile", phone.clone()),
            ("from", phone),
        ];
        emit(&account, target.as_ref(), "message", &variables, desk);
        Ok(Outcome::Done(json!({"id": id, "window_until": until})))
    }

    /// A customer reads what came on WhatsApp, all of it or one message.
    fn read(&mut self, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let phone = wanted(request, "phone").map(digits_of);
        let reference = wanted(request, "reference_id");
        let id = wanted(request, "id");
        if phone.is_none() && reference.is_none() && id.is_none() {
            return Err(Refused::invalid("phone, reference_id or id is missing"));
        }
        let read: Vec<String> = self
            .order_of_arrival
            .iter()
            .filter_map(|id| Some((id, self.messages.get(id)?)))
            .filter(|(found, message)| {
                message.channel == "whatsapp"
                    && !matches!(message.status, "read" | "failed")
                    && phone.as_ref().is_none_or(|phone| *phone == message.to)
                    && reference
                        .is_none_or(|wanted| message.reference_id.as_deref() == Some(wanted))
                    && id.is_none_or(|wanted| *found == wanted)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &read {
            self.report(id, "read", None, desk);
        }
        Ok(Outcome::Done(json!({"read": read})))
    }

    /// A customer taps Pay.
    fn pay(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let accounts = &self.accounts;
        let configurations = |sid: &str| {
            accounts
                .get(sid)
                .map_or(&[][..], |account| account.configurations.as_slice())
        };
        match self
            .phones
            .tap("kaleyra", act, request, configurations, desk)?
        {
            Tapped::Attempted(key, done) => {
                self.emit_payment(&key, desk);
                Ok(Outcome::Done(done))
            }
            Tapped::Elsewhere(outcome) => Ok(outcome),
        }
    }

    /// The payment status callback.
    fn emit_payment(&self, key: &Key, desk: &mut Desk) {
        let Some(placed) = self.phones.orders.get(key) else {
            return;
        };
        let (Some(transaction), Some(account)) = (
            placed.captured().or_else(|| placed.transactions.last()),
            self.accounts.get(&placed.account),
        ) else {
            return;
        };
        let reference = &placed.order.reference_id;
        let message = self
            .order_of_arrival
            .iter()
            .filter_map(|id| Some((id, self.messages.get(id)?)))
            .find(|(_, message)| {
                message.kind == "order_details"
                    && message.account == placed.account
                    && message.reference_id.as_ref() == Some(reference)
                    && message.status != "failed"
            });
        let Some((id, message)) = message else {
            return;
        };
        let (status, event) = if transaction.status == "success" {
            ("CAPTURED", "payment.captured")
        } else {
            ("PENDING", "payment.pending")
        };
        let mut variables = about(id, message, desk.now());
        variables.extend([
            ("event", "payment_status".to_owned()),
            ("status", status.to_owned()),
            ("payment_status", status.to_owned()),
            (
                "payment_config_id",
                message.configuration.clone().unwrap_or_default(),
            ),
            ("amount", transaction.amount.to_string()),
            ("offset", "100".to_owned()),
            ("currency", "INR".to_owned()),
            ("transaction_id", transaction.id.clone()),
            ("transaction_type", transaction.gateway.clone()),
            ("transaction_status", transaction.status.to_owned()),
            ("method", transaction.method.clone()),
        ]);
        // "Message status webhooks also retrieve the payment status": to the message's own target, unless the account's
        // first profile is set up for payments.
        let of_account = account
            .callback_profiles
            .first()
            .filter(|profile| profile.body.of(event).is_some())
            .map(|profile| Target::Profile(profile.id.clone()));
        let target = match &message.target {
            Some(Target::Profile(id)) => Some(Target::Profile(id.clone())),
            other => of_account.or_else(|| other.clone()),
        };
        emit(account, target.as_ref(), event, &variables, desk);
    }

    /// Whether a payment call names the number it must.
    fn check_number(account: &Account, placed: &Placed, number: &str) -> bool {
        let given = number.strip_prefix('+').unwrap_or(number);
        let business = given == digits_of(&account.from);
        let customer = given == placed.to;
        match account.payment_number {
            PaymentNumber::Any => business || customer,
            PaymentNumber::Business => business,
            PaymentNumber::Customer => customer,
        }
    }

    /// The order a payment call is about, or what is wrong with the call.
    fn find(
        &self,
        account: &Account,
        reference: &str,
        configuration: &str,
        number: &str,
    ) -> Result<&Placed, (&'static str, &'static str)> {
        let placed = self
            .phones
            .orders
            .get(&(account.sid.clone(), reference.to_owned()))
            .ok_or((
                "reference_id",
                "no payment found for the given reference_id",
            ))?;
        if !matches!(&placed.order.payment, Payment::Gateway { configuration: found, .. } if found == configuration)
        {
            return Err((
                "payment_config_id",
                "no payment found for the given payment_config_id",
            ));
        }
        if !Self::check_number(account, placed, number) {
            return Err(("number", "number is not valid"));
        }
        Ok(placed)
    }

    /// `GET /v1/<SID>/whatsapp/payment/status`.
    fn lookup(&self, account: &Account, call: &Call) -> Answer {
        let mut given = Vec::new();
        for name in ["reference_id", "payment_config_id", "number"] {
            match call.param(name) {
                Some(value) if !value.is_empty() => given.push(value),
                _ => return payment_error(account, name, &format!("{name} is mandatory")),
            }
        }
        let [reference, configuration, number] = given.as_slice() else {
            return payment_error(account, "reference_id", "reference_id is mandatory");
        };
        let placed = match self.find(account, reference, configuration, number) {
            Ok(placed) => placed,
            Err((field, why)) => return payment_error(account, field, why).about(*reference),
        };
        let status = if placed.captured().is_some() {
            "CAPTURED"
        } else {
            "PENDING"
        };
        let mut payment = json!({
            "amount": {"offset": 100, "value": placed.order.total},
            "currency": "INR",
            "reference_id": reference,
            "status": status,
        });
        if let (false, Some(map)) = (placed.transactions.is_empty(), payment.as_object_mut()) {
            map.insert(
                "transactions".to_owned(),
                placed.transactions.iter().map(show_transaction).collect(),
            );
        }
        Answer::json(
            200,
            &json!({
                "code": "WA200",
                "message": "Request Processed Successfully",
                "data": {"payments": [payment]},
                "error": {},
            }),
        )
        .about(*reference)
    }

    /// `POST /v1/<SID>/whatsapp/payment/refund`: value and offset are strings in the sample, integers in the table.
    fn refund(&mut self, account: &Account, call: &Call, desk: &mut Desk) -> Answer {
        let body = call.json().unwrap_or_default();
        let Refunding {
            reference,
            configuration,
            speed,
            number,
            value,
        } = match read_refund(&body) {
            Ok(read) => read,
            Err((field, why)) => return payment_error(account, &field, &why),
        };
        if let Err((field, why)) = self.find(account, reference, configuration, number) {
            return payment_error(account, field, why).about(reference);
        }
        let key = (account.sid.clone(), reference.to_owned());
        match self.phones.refund(
            "kaleyra",
            &key,
            configuration,
            value,
            (speed, account.refunds),
            desk,
        ) {
            Ok(refund) => Answer::json(
                200,
                &json!({"id": refund.id, "status": refund.status, "speed_processed": refund.speed}),
            ),
            Err(NoRefund::Unknown) => {
                payment_error(account, "reference_id", "the order is not paid")
            }
            Err(NoRefund::TooMuch) => payment_error(
                account,
                "value",
                "value is more than what is left of the payment",
            ),
        }
        .about(reference)
    }
}

/// What a refund call says.
struct Refunding<'a> {
    reference: &'a str,
    configuration: &'a str,
    speed: &'a str,
    number: &'a str,
    value: i64,
}

/// Reads a refund call, or says which field is wrong and why.
fn read_refund(body: &Value) -> Result<Refunding<'_>, (String, String)> {
    const SPEED: &str = "valid refund speed required, accepted values are normal/instant";
    let complain = |problem: Problem| {
        let field = problem.path().to_owned();
        let why = match problem {
            Problem::Unknown { path } => format!("{path} is not a field of this request"),
            Problem::Missing { path } => format!("{path} is mandatory"),
            Problem::Type { path, wanted } => format!("{path} must be {wanted}"),
            Problem::Value { path, why } => format!("{path} {why}"),
        };
        (field, why)
    };
    let fields = Fields::of(
        body,
        "",
        &[
            "reference_id",
            "speed",
            "payment_config_id",
            "currency",
            "value",
            "offset",
            "number",
        ],
    )
    .map_err(complain)?;
    let speed = fields
        .word("speed", &["normal", "instant"])
        .ok()
        .flatten()
        .ok_or(("speed".to_owned(), SPEED.to_owned()))?;
    let reference = fields.need_text("reference_id", 35).map_err(complain)?;
    let configuration = fields
        .need_text("payment_config_id", 60)
        .map_err(complain)?;
    fields.need_word("currency", &["INR"]).map_err(complain)?;
    let number = fields.need_text("number", 20).map_err(complain)?;
    let whole = |name: &str| {
        let value = fields.need(name).map_err(complain)?;
        value
            .as_i64()
            .or_else(|| value.as_str()?.parse().ok())
            .filter(|value| *value > 0)
            .ok_or_else(|| {
                (
                    name.to_owned(),
                    format!("{name} must be a positive integer"),
                )
            })
    };
    if whole("offset")? != 100 {
        return Err(("offset".to_owned(), "offset must be 100".to_owned()));
    }
    Ok(Refunding {
        reference,
        configuration,
        speed,
        number,
        value: whole("value")?,
    })
}

/// A transaction, as the payment status shows it: no id of the gateway's payment.
fn show_transaction(transaction: &Transaction) -> Value {
    json!({
        "amount": {"offset": 100, "value": transaction.amount},
        "created_timestamp": transaction.at,
        "currency": "INR",
        "id": transaction.id,
        "status": transaction.status,
        "type": transaction.gateway,
        "updated_timestamp": transaction.at,
    })
}

/// What every callback about a message can say.
fn about(message_id: &str, message: &Message, now: i64) -> Vec<(&'static str, String)> {
    let id = message_id.split(':').next().unwrap_or_default();
    let mut variables = vec![
        ("id", id.to_owned()),
        ("message_id", message_id.to_owned()),
        (
            "channel",
            match message.channel {
                "sms" => "SMS".to_owned(),
                _ => "WhatsApp".to_owned(),
            },
        ),
        ("type", message.kind.clone()),
        ("recipient", message.to.clone()),
        ("to", message.to.clone()),
        ("from", message.sender.clone()),
        ("sender", message.sender.clone()),
        (
            "reference_id",
            message.reference_id.clone().unwrap_or_default(),
        ),
        ("timestamp", now.to_string()),
    ];
    variables.extend(message.refs.iter().cloned());
    variables
}
