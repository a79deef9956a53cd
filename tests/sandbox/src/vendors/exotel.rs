//! Exotel: WhatsApp order messages, and SMS under India's DLT rules.
//!
//! Written from Exotel's developer pages "WhatsApp Payment Messages", "Send WhatsApp Messages API", "Error codes" (WhatsApp),
//! "Send SMS", "SMS details", "SMS stats glossary" and from what integrations have seen of its callbacks. The newer portal
//! contradicts itself and the older pages; where they differ, the older pages and the traffic.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::order_details::Leniency;
use super::sms::{Dlt, Parts, Scrubbed, parts};
use super::whatsapp::{
    Configuration, Content, Key, NoSms, Phones, Refusal, Strictness, Tapped, Template, check_media,
    digits_of, message_kind, message_operation, read_interactive, read_template, strict, wa_id,
};
use super::{Act, Outcome, Refused, Vendor, merged, wanted};
use crate::calendar::{INDIA, date_and_time};
use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};
use crate::strict::{Fields, Problem};

/// "Up to 100 messages" in one call.
const MOST_MESSAGES: usize = 100;
/// "Max length of the body cannot exceed 2000 characters".
const LONGEST_SMS: usize = 2000;
/// What one SMS unit costs, in paise: the sample's 0.18 rupees.
const UNIT_PRICE: usize = 18;

const OPERATIONS: &[&str] = &[
    "send_message.order_details",
    "send_message.order_status",
    "send_message.template_order_details",
    "send_message.template_order_status",
    "send_message.template_body",
    "send_message.text",
    "send_message.image",
    "send_message.other",
    "send_sms",
    "get_sms",
    "unknown",
];

const EVENTS: &[&str] = &[
    "status.sent",
    "status.delivered",
    "status.read",
    "status.failed",
    "payment.captured",
    "payment.failed",
    "payment.canceled",
    "payment.refunded",
    "message",
    "sms.sent",
    "sms.failed",
    "forged",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum MessageAnswer {
    /// 202, each message with a code of its own.
    #[default]
    PerMessage,
    /// 200 and `response.data`, as the payment messages page shows.
    Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum PaymentWebhook {
    /// `{"event": "payment_status", ...}`: the payment messages page.
    #[default]
    Flat,
    /// `{"type": "payment_status", "data": {...}}`: the support page.
    Data,
    /// `{"statuses": [...]}`: what older integrations read.
    Statuses,
}

fn incoming_message() -> String {
    "incoming_message".to_owned()
}

fn failed_dnd() -> String {
    "failed_dnd".to_owned()
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SmsSettings {
    /// What is registered with the operators.
    #[serde(default)]
    dlt: Dlt,
    /// The headers and numbers linked to the account; any if left out.
    #[serde(default)]
    linked_senders: Option<Vec<String>>,
    /// Where reports go when a message names no `StatusCallback`.
    #[serde(default)]
    status_callback: Option<String>,
    /// `failed_dnd` or `failed-dnd`: Exotel's pages write both.
    #[serde(default = "failed_dnd")]
    dnd_word: String,
}

impl Default for SmsSettings {
    fn default() -> Self {
        Self {
            dlt: Dlt::default(),
            linked_senders: None,
            status_callback: None,
            dnd_word: failed_dnd(),
        }
    }
}

/// An account, as `POST /_control/accounts` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    account_sid: String,
    api_key: String,
    api_token: String,
    /// The WhatsApp number.
    #[serde(default)]
    from: String,
    /// Inbound messages, payments, and the reports of messages without a `status_callback`.
    #[serde(default)]
    webhook_url: Option<String>,
    #[serde(default)]
    configurations: Vec<Configuration>,
    #[serde(default)]
    templates: Vec<Template>,
    #[serde(default)]
    message_answer: MessageAnswer,
    /// `incoming_message`, as in the traffic, `icm`, as in the older pages, or `portal`, the form of the newer ones.
    #[serde(default = "incoming_message")]
    inbound_type: String,
    #[serde(default)]
    payment_webhook: PaymentWebhook,
    /// Whether payment messages are enabled.
    #[serde(default = "yes")]
    payment_messages: bool,
    #[serde(default)]
    importer_fields: Strictness,
    #[serde(default = "strict")]
    upi_link_params: Strictness,
    #[serde(default)]
    sms: SmsSettings,
}

impl Account {
    fn leniency(&self) -> Leniency {
        Leniency {
            importer_fields: self.importer_fields == Strictness::Lenient,
            legacy_payment: false,
            upi_link_params: self.upi_link_params == Strictness::Lenient,
            totals: false,
        }
    }

    fn is_from(&self, from: &str) -> bool {
        from == self.from
            || (!digits_of(from).is_empty() && digits_of(from) == digits_of(&self.from))
    }
}

/// A WhatsApp message that was accepted.
#[derive(Debug, Clone)]
struct Message {
    account: String,
    to: String,
    kind: &'static str,
    reference_id: Option<String>,
    custom_data: Option<String>,
    status_callback: Option<String>,
    status: &'static str,
    at: i64,
    body: Value,
}

/// An SMS that was accepted.
#[derive(Debug, Clone)]
struct Sms {
    account: String,
    from: String,
    to: String,
    text: String,
    parts: Parts,
    custom_field: Option<String>,
    status_callback: Option<String>,
    status: String,
    detail: i64,
    at: i64,
}

/// Exotel.
#[derive(Debug, Default)]
pub(crate) struct Exotel {
    accounts: BTreeMap<String, Account>,
    /// The accounts as they were given.
    said: BTreeMap<String, Value>,
    messages: BTreeMap<String, Message>,
    texts: BTreeMap<String, Sms>,
    order_of_arrival: Vec<String>,
    phones: Phones,
}

/// Words and descriptions of the WhatsApp codes ("Error codes").
fn described(code: i64) -> (&'static str, &'static str) {
    match code {
        30_001 => ("EX_MESSAGE_SENT", "The message has been sent to the user"),
        30_002 => (
            "EX_MESSAGE_DELIVERED",
            "The message has been successfully delivered to the user",
        ),
        30_003 => ("EX_MESSAGE_SEEN", "The message has been seen by the user"),
        30_004 => (
            "EX_SYSTEM_ERROR",
            "The message failed due to an issue with the system",
        ),
        30_005 => (
            "EX_NUMBER_ERROR",
            "The message failed due to an issue with the phone number",
        ),
        30_006 => ("EX_SETUP_ERROR", "The message failed due to set-up error"),
        30_007 => (
            "EX_RATE_LIMIT_HIT",
            "The message failed due to a breach in rate limit",
        ),
        30_008 => (
            "EX_SPAM_RATE_LIMIT_HIT",
            "The message failed as spam rate limit has been breached",
        ),
        30_009 => (
            "EX_TOO_MANY_REQUEST",
            "The message failed as too many request has been made in short span",
        ),
        30_010 => (
            "EX_INVALID_REQUEST",
            "The message failed as the request is invalid",
        ),
        30_012 => (
            "EX_INVALID_RECIPIENT",
            "The message failed as the recipient was invalid",
        ),
        30_013 => (
            "EX_INCAPABLE_RECIPIENT",
            "The message failed as the recipient is unable to receive the message",
        ),
        30_014 => (
            "EX_RECIPIENT_BLOCKED",
            "The message failed as the recipient is not in allowed list",
        ),
        30_015 => (
            "EX_UNSUPPORTED_MESSAGE",
            "The message failed as unsupported message type has been passed in the request body",
        ),
        30_016 => (
            "EX_MEDIA_DOWNLOAD_ERROR",
            "The message failed as Whatsapp is unable to download the sender media",
        ),
        30_017 => (
            "EX_MEDIA_UPLOAD_ERROR",
            "The message failed as unsupported media type has been passed in the request body",
        ),
        30_018 => (
            "EX_REENGAGEMENT_ERROR",
            "The message failed as 24 hours window of the conversation is over",
        ),
        30_019 => (
            "EX_INVALID_PARAM",
            "The message failed as invalid parameters has been passed in the request body",
        ),
        30_020 => (
            "EX_MISSING_PARAM",
            "The message failed as a mandatory parameter is missing in the request body",
        ),
        30_021 => (
            "EX_INVALID_PARAM_VALUE",
            "The message failed as an invalid parameter value has been passed in the request body",
        ),
        30_022 => (
            "EX_TEMPLATE_ERROR",
            "The message failed due to its template",
        ),
        30_023 => (
            "EX_TEMPLATE_PARAM_ERROR",
            "The message failed as the template's parameters do not match",
        ),
        30_024 => (
            "EX_TEMPLATE_NOT_FOUND",
            "The message failed as the template does not exist",
        ),
        30_025 => (
            "EX_TEMPLATE_TEXT_TOO_LONG",
            "The message failed as the template's text is too long",
        ),
        30_027 => (
            "EX_MESSAGE_PENDING_TOO_LONG",
            "The message failed as it was pending for too long",
        ),
        _ => (
            "EX_UNKNOWN_ERROR",
            "The message failed due to an unknown error",
        ),
    }
}

/// WhatsApp's own codes in Exotel's.
fn exo_code(code: i64) -> i64 {
    match code {
        100 => 30_019,
        2046 | 2047 => 30_010,
        131_008 => 30_020,
        131_009 => 30_021,
        131_026 => 30_013,
        131_047 => 30_018,
        131_051 => 30_015,
        131_053 => 30_016,
        132_000 | 132_012 => 30_023,
        132_001 => 30_024,
        132_015 | 132_016 => 30_022,
        30_000..=30_999 => code,
        _ => 30_011,
    }
}

/// Names of the detailed SMS statuses ("SMS stats glossary").
fn sms_word(code: i64) -> &'static str {
    match code {
        20_005 => "DELIVERED_TO_HANDSET",
        20_006 => "DELIVERED_TO_OPERATOR",
        21_010 => "PENDING_TO_OPERATOR",
        23_005 => "FAILED_DND",
        23_010 => "FAILED_INVALID_NUMBER",
        23_035 => "FAILED_SUBSCRIBER_UNAVAILABLE",
        23_070 => "FAILED_INVALID",
        23_080 => "SENDER_BLOCKED_BY_DLT",
        23_081 => "ENTITY_BLOCKED_BY_DLT",
        23_082 => "TEMPLATE_BLOCKED_BY_DLT",
        23_083 => "FAILED_DLT_SCRUBBING_ERROR",
        23_084 => "FAILED_DLT_CONSENT_ERROR",
        23_181 => "DLT_TEMPLATE_ID_INVALID",
        23_182 => "DLT_TEMPLATE_NOT_FOUND",
        23_183 => "DLT_TEMPLATE_ID_INACTIVE",
        23_184 => "DLT_TEMPLATE_ID_BLACKLISTED",
        23_185 => "DLT_TEMPLATE_DOES_NOT_MATCH",
        23_186 => "DLT_LENGTH_EXCEEDED",
        23_281 => "DLT_ENTITY_NOT_FOUND",
        24_010 => "FAILED_SYSTEM_ERROR",
        24_110 => "FAILED_OPERATOR_ERROR",
        _ => "FAILED_UNKNOWN_ERROR",
    }
}

fn scrubbed_code(scrubbed: Scrubbed) -> i64 {
    match scrubbed {
        Scrubbed::Sender => 23_080,
        Scrubbed::NoEntity => 23_070,
        Scrubbed::Entity => 23_281,
        Scrubbed::TemplateId => 23_181,
        Scrubbed::NoTemplate => 23_182,
        Scrubbed::Inactive => 23_183,
        Scrubbed::Blacklisted => 23_184,
        Scrubbed::Mismatch => 23_185,
        Scrubbed::TooLong => 23_186,
        Scrubbed::Link => 23_083,
    }
}

/// An error of a whole WhatsApp call.
fn v2_error(status: u16, code: i64, message: &str, why: &str, desk: &mut Desk) -> Answer {
    Answer::json(
        status,
        &json!({
            "request_id": desk.id(32).to_lowercase(),
            "method": "POST",
            "http_code": status,
            "response": {
                "code": status,
                "status": "failure",
                "error_data": {"code": code, "message": message, "description": why},
            },
        }),
    )
}

/// An error of the SMS API: `RestException`, in XML unless the path ends in `.json`.
fn sms_error(status: u16, code: i64, message: &str, is_json: bool) -> Answer {
    if is_json {
        Answer::json(
            status,
            &json!({"RestException": {"Status": status, "Message": message, "Code": code}}),
        )
    } else {
        Answer::xml(
            status,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<TwilioResponse>\n <RestException>\n  <Status>{status}</Status>\n  <Message>{}</Message>\n </RestException>\n</TwilioResponse>\n",
                escaped(message)
            ),
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn indian_time(seconds: i64) -> String {
    let (date, time) = date_and_time(seconds, INDIA);
    format!("{date} {time}")
}

impl Vendor for Exotel {
    fn name(&self) -> &'static str {
        "exotel"
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
            ("POST", ["v2", "accounts", _, "messages"]) => {
                let body = call.json().unwrap_or_default();
                message_operation(
                    body.pointer("/whatsapp/messages/0/content")
                        .unwrap_or(&Value::Null),
                )
            }
            ("POST", ["v1", "Accounts", _, "Sms", "send" | "send.json"]) => "send_sms",
            ("GET", ["v1", "Accounts", _, "SMS", "Messages", _]) => "get_sms",
            _ => "unknown",
        }
    }

    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let (method, segments) = call.route();
        let is_json = segments.last().is_some_and(|last| last.ends_with(".json"));
        let is_v2 = segments.first() == Some(&"v2");
        let account = match self.authorized(call, segments.get(2).copied().unwrap_or_default()) {
            Ok(account) => account.clone(),
            Err(status) => {
                // SMS API, HTTP errors: 34010 is not authenticated, 34009 not authorized.
                let (code, why) = if status == 401 {
                    (34_010, "Authentication failed")
                } else {
                    (34_009, "Account does not have permission")
                };
                return if is_v2 {
                    v2_error(status, i64::from(status), why, why, desk)
                } else {
                    sms_error(status, code, why, is_json)
                };
            }
        };
        let mut answer = match (method, segments.as_slice()) {
            ("POST", ["v2", "accounts", _, "messages"]) => self.whatsapp(&account, call, desk),
            ("POST", ["v1", "Accounts", _, "Sms", "send" | "send.json"]) => {
                self.sms(&account, call, is_json, desk)
            }
            ("GET", ["v1", "Accounts", _, "SMS", "Messages", sid]) => {
                let sid = sid.strip_suffix(".json").unwrap_or(sid);
                match self.texts.get(sid) {
                    Some(sms) if sms.account == account.account_sid => {
                        show_answer(sid, sms, is_json)
                    }
                    _ => sms_error(404, 404, "The requested resource was not found", is_json),
                }
            }
            _ if is_v2 => v2_error(404, 404, "Not found", "No such resource", desk),
            _ => sms_error(404, 404, "The requested resource was not found", is_json),
        };
        answer.account = Some(account.account_sid);
        answer
    }

    fn error(&self, status: u16, code: Option<i64>, desk: &mut Desk) -> Value {
        const PLANNED: &str = "Planned by the sandbox's control API.";
        let code = code.unwrap_or_else(|| i64::from(status));
        // The SMS API numbers its errors 34009 ... 40405; a fault cannot know which of the two APIs it will meet.
        if (34_000..50_000).contains(&code) {
            json!({"RestException": {"Status": status, "Message": PLANNED, "Code": code}})
        } else {
            let answer = v2_error(status, code, PLANNED, PLANNED, desk);
            serde_json::from_slice(&answer.body).unwrap_or_default()
        }
    }

    fn register(&mut self, account: &Value) -> Result<(), Refused> {
        let (sid, said) = merged(&self.said, "account_sid", account)?;
        let account: Account = serde_json::from_value(said.clone())
            .map_err(|error| Refused::invalid(format!("exotel: {error}")))?;
        for (value, words) in [
            (
                &account.inbound_type,
                &["incoming_message", "icm", "portal"][..],
            ),
            (&account.sms.dnd_word, &["failed_dnd", "failed-dnd"][..]),
        ] {
            if !words.contains(&value.as_str()) {
                return Err(Refused::invalid(format!(
                    "exotel: {value:?} must be one of {words:?}"
                )));
            }
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
        let key = self.phones.hear("exotel", mirror, desk.now());
        // Only the support page knows a word for it.
        if let (Some(key), Mirror::Refund { status, .. }) = (key, mirror)
            && *status == "processed"
        {
            self.emit_payment(&key, "refunded", desk);
        }
    }

    fn settle_refund(
        &mut self,
        id: &str,
        _status: &str,
        _speed: Option<&str>,
        _desk: &mut Desk,
    ) -> Result<Value, Refused> {
        // No refund call of Exotel's is documented: refunds are the gateway's.
        Err(Refused::unknown(format!("no refund {id:?}")))
    }

    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        _signature: Option<&str>,
        _desk: &mut Desk,
    ) -> Result<HookDraft, Refused> {
        let account = self.one(account)?;
        let url = account
            .webhook_url
            .clone()
            .ok_or_else(|| Refused::unknown("the account has no webhook_url"))?;
        Ok(draft(account, "forged", url, body, JSON, None))
    }

    fn inbox(&self, phone: &str) -> Vec<Value> {
        let phone = digits_of(phone);
        self.order_of_arrival
            .iter()
            .filter_map(|id| {
                if let Some(message) = self.messages.get(id) {
                    return (message.to == phone && message.status != "failed").then(|| {
                        json!({
                            "channel": "whatsapp",
                            "vendor": "exotel",
                            "account": message.account,
                            "id": id,
                            "at": message.at,
                            "kind": message.kind,
                            "reference_id": message.reference_id,
                            "status": message.status,
                            "body": message.body,
                        })
                    });
                }
                let sms = self.texts.get(id)?;
                (digits_of(&sms.to) == phone && !sms.status.starts_with("failed")).then(|| {
                    json!({
                        "channel": "sms",
                        "vendor": "exotel",
                        "account": sms.account,
                        "id": id,
                        "at": sms.at,
                        "kind": "sms",
                        "reference_id": sms.custom_field,
                        "status": sms.status,
                        "from": sms.from,
                        "text": sms.text,
                        "encoding": sms.parts.encoding,
                        "segments": sms.parts.count,
                    })
                })
            })
            .collect()
    }

    fn set_phone(&mut self, phone: &str, request: &Value) {
        self.phones.set(phone, request);
    }
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A callback. Exotel signs nothing that could be checked: one page names a header and not its key, the others neither.
fn draft(
    account: &Account,
    event: &str,
    url: String,
    body: Vec<u8>,
    content_type: &str,
    reference_id: Option<&str>,
) -> HookDraft {
    HookDraft {
        vendor: "exotel",
        account: account.account_sid.clone(),
        event: event.to_owned(),
        reference_id: reference_id.map(str::to_owned),
        url,
        headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
        body,
    }
}

/// An SMS as "SMS details" shows it.
fn show_sms(sid: &str, sms: &Sms) -> Value {
    let is_queued = sms.status == "queued";
    let price = sms.parts.count.saturating_mul(UNIT_PRICE);
    let price: Value = if is_queued {
        Value::Null
    } else {
        serde_json::from_str(&format!("{}.{:02}", price / 100, price % 100)).unwrap_or_default()
    };
    let at = indian_time(sms.at);
    json!({
        "Sid": sid,
        "AccountSid": sms.account,
        "From": sms.from,
        "To": sms.to,
        "Body": sms.text,
        "Status": sms.status,
        "SmsUnits": sms.parts.count,
        "DetailedStatusCode": sms.detail,
        "DetailedStatus": sms_word(sms.detail),
        "DateCreated": at,
        "DateUpdated": at,
        "DateSent": if is_queued { Value::Null } else { at.clone().into() },
        "Price": price,
        "Uri": format!("/v1/Accounts/{}/SMS/Messages/{sid}", sms.account),
    })
}

fn show_answer(sid: &str, sms: &Sms, is_json: bool) -> Answer {
    let shown = show_sms(sid, sms);
    let answer = if is_json {
        Answer::json(200, &json!({"SMSMessage": shown}))
    } else {
        let fields: String = shown
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => escaped(text),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                format!("  <{name}>{text}</{name}>\n")
            })
            .collect();
        Answer::xml(
            200,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<TwilioResponse>\n <SMSMessage>\n{fields} </SMSMessage>\n</TwilioResponse>\n"
            ),
        )
    };
    match &sms.custom_field {
        Some(field) => answer.about(field),
        None => answer,
    }
}

/// The content of a message.
fn read_content(
    content: &Value,
    path: &str,
    account: &Account,
    now: i64,
) -> Result<(Content, bool), Refusal> {
    let kind = content
        .get("type")
        .ok_or_else(|| Problem::Missing {
            path: format!("{path}.type"),
        })?
        .as_str()
        .unwrap_or_default();
    let fields = |name| Fields::of(content, path, &["recipient_type", "type", name]);
    if let Some(found) = content.get("recipient_type")
        && *found != "individual"
    {
        return Err(
            Problem::value(format!("{path}.recipient_type"), "must be \"individual\"").into(),
        );
    }
    let read = match kind {
        "interactive" => {
            let fields = fields(kind)?;
            read_interactive(
                fields.need(kind)?,
                &fields.at(kind),
                now,
                account.leniency(),
            )?
        }
        // The payment messages page: type, header, body and action lie flat in the content, and its sample has neither
        // subtotal nor tax.
        "order_details" => {
            let mut flat = content.clone();
            if let Some(flat) = flat.as_object_mut() {
                flat.remove("recipient_type");
            }
            let leniency = Leniency {
                totals: true,
                ..account.leniency()
            };
            read_interactive(&flat, path, now, leniency)?
        }
        "template" => {
            let fields = fields(kind)?;
            let content = read_template(
                fields.need(kind)?,
                &fields.at(kind),
                &account.templates,
                now,
                account.leniency(),
            )?;
            return Ok((content, false));
        }
        "text" => {
            let text = fields(kind)?.need_object(kind, &["body", "preview_url"])?;
            text.need_text("body", 4096)?;
            text.boolean("preview_url")?;
            Content::Plain
        }
        "image" => {
            let image = fields(kind)?.need_object(kind, &["link", "id", "caption"])?;
            image.text("caption", 1024)?;
            check_media(&image)?;
            Content::Plain
        }
        other => {
            return Err(Refusal::new(
                131_051,
                format!("{path}.type {other:?} is not supported"),
            ));
        }
    };
    Ok((read, true))
}

/// Whether a message is to be paid through a payment configuration.
fn needs_gateway(content: &Value) -> bool {
    ["/interactive/action", "/action"].iter().any(|action| {
        content
            .pointer(&format!("{action}/parameters/payment_settings/0/type"))
            .and_then(Value::as_str)
            == Some("payment_gateway")
    })
}

/// What the envelope says for all its messages.
#[derive(Debug, Default)]
struct Envelope {
    custom_data: Option<String>,
    status_callback: Option<String>,
}

impl Envelope {
    /// The same with what a part of it says for itself.
    fn with(&self, fields: &Fields<'_>) -> Result<Self, Problem> {
        let custom = fields.text("custom_data", 2048)?.map(str::to_owned);
        let callback = fields.text("status_callback", 2048)?.map(str::to_owned);
        Ok(Self {
            custom_data: custom.or_else(|| self.custom_data.clone()),
            status_callback: callback.or_else(|| self.status_callback.clone()),
        })
    }
}

/// A message that went in.
#[derive(Debug)]
struct Accepted {
    sid: String,
    to: String,
    reference_id: Option<String>,
}

impl Exotel {
    fn one(&self, sid: Option<&str>) -> Result<&Account, Refused> {
        match sid {
            Some(sid) => self.accounts.get(sid),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such Exotel account"))
    }

    /// HTTP Basic with key and token; the sid in the path must be theirs.
    fn authorized(&self, call: &Call, sid: &str) -> Result<&Account, u16> {
        let given = call
            .header("authorization")
            .and_then(|header| header.strip_prefix("Basic "))
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .unwrap_or_default();
        let mut known = self.accounts.values().filter(|account| {
            format!("{}:{}", account.api_key, account.api_token).as_bytes() == given
        });
        let first = known.next().ok_or(401_u16)?;
        std::iter::once(first)
            .chain(known)
            .find(|account| account.account_sid == sid)
            .ok_or(403)
    }

    /// `POST /v2/accounts/<sid>/messages`.
    fn whatsapp(&mut self, account: &Account, call: &Call, desk: &mut Desk) -> Answer {
        let body = call.json().unwrap_or_default();
        let read = || -> Result<(Envelope, &[Value]), Problem> {
            let fields = Fields::of(&body, "", &["custom_data", "status_callback", "whatsapp"])?;
            let envelope = Envelope::default().with(&fields)?;
            let channel =
                fields.need_object("whatsapp", &["custom_data", "status_callback", "messages"])?;
            let envelope = envelope.with(&channel)?;
            let messages = channel.need_array("messages")?;
            if messages.is_empty() || messages.len() > MOST_MESSAGES {
                return Err(Problem::value(
                    channel.at("messages"),
                    format!(
                        "has {} messages, 1 to {MOST_MESSAGES} are allowed",
                        messages.len()
                    ),
                ));
            }
            Ok((envelope, messages))
        };
        let (envelope, messages) = match read() {
            Ok(read) => read,
            Err(problem) => return bad_request(&Refusal::from(problem), desk),
        };
        let contents = || messages.iter().filter_map(|message| message.get("content"));
        // "403: payment messages not enabled", "402: payment gateway not configured".
        if !account.payment_messages
            && contents().any(|content| message_kind(content).ends_with("order_details"))
        {
            let why = "Payment messages not enabled";
            return v2_error(403, 403, why, why, desk);
        }
        if account.configurations.is_empty() && contents().any(needs_gateway) {
            let why = "Payment Gateway not configured";
            return v2_error(402, 402, why, why, desk);
        }
        let mut results = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let path = format!("whatsapp.messages[{index}]");
            results.push(self.accept(account, message, &path, &envelope, desk));
        }
        let reference = results
            .iter()
            .find_map(|result| result.as_ref().ok()?.reference_id.clone());
        let answer = match (account.message_answer, results.as_slice()) {
            (MessageAnswer::Data, [Err(refusal)]) => bad_request(refusal, desk),
            (MessageAnswer::Data, [Ok(accepted)]) => Answer::json(
                200,
                &json!({
                    "request_id": desk.id(32).to_lowercase(),
                    "method": "POST",
                    "http_code": 200,
                    "response": {
                        "code": 200,
                        "status": "success",
                        "data": {"message_id": accepted.sid, "status": "sent", "to": accepted.to},
                    },
                }),
            ),
            _ => {
                let failed = results.iter().filter(|result| result.is_err()).count();
                Answer::json(
                    202,
                    &json!({
                        "request_id": desk.id(32).to_lowercase(),
                        "method": "POST",
                        "http_code": 202,
                        "metadata": {
                            "total": results.len(),
                            "success": results.len().saturating_sub(failed),
                            "failed": failed,
                        },
                        "response": {"whatsapp": {
                            "messages": results.iter().map(show_result).collect::<Vec<_>>(),
                        }},
                    }),
                )
            }
        };
        match reference {
            Some(reference) => answer.about(reference),
            None => answer,
        }
    }

    fn accept(
        &mut self,
        account: &Account,
        message: &Value,
        path: &str,
        envelope: &Envelope,
        desk: &mut Desk,
    ) -> Result<Accepted, Refusal> {
        let fields = Fields::of(
            message,
            path,
            &["from", "to", "content", "custom_data", "status_callback"],
        )?;
        let own = envelope.with(&fields)?;
        let from = fields.need_text("from", 40)?;
        if !account.is_from(from) {
            return Err(Refusal::new(
                30_005,
                format!("{} is not a number of this account", fields.at("from")),
            ));
        }
        let to = fields.need_text("to", 30)?;
        let customer = wa_id(to).map_err(|refusal| Refusal::new(30_012, refusal.details))?;
        let content = fields.need("content")?;
        let (read, needs_window) =
            read_content(content, &fields.at("content"), account, desk.now())?;
        self.phones.check_unused(&account.account_sid, &read)?;
        let is_open = self
            .phones
            .is_open(&account.account_sid, &customer, desk.now());
        let error = if let Some(planned) = desk.next_async_error.take() {
            Some(Refusal::new(
                planned
                    .get("code")
                    .and_then(Value::as_i64)
                    .map_or(30_004, exo_code),
                planned
                    .get("description")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            ))
        } else if needs_window && !is_open {
            Some(Refusal::new(30_018, ""))
        } else if !self.phones.is_reachable(&customer) {
            Some(Refusal::new(30_013, ""))
        } else {
            self.phones
                .apply(&account.account_sid, &account.account_sid, &customer, &read)
        };
        let reference_id = match read {
            Content::Order(order) => Some(order.reference_id),
            Content::Status { reference_id, .. } => Some(reference_id),
            Content::Plain => None,
        };
        let sid = desk.id(31);
        self.messages.insert(
            sid.clone(),
            Message {
                account: account.account_sid.clone(),
                to: customer,
                kind: message_kind(content),
                reference_id: reference_id.clone(),
                custom_data: own.custom_data,
                status_callback: own.status_callback,
                status: "accepted",
                at: desk.now(),
                body: content.clone(),
            },
        );
        self.order_of_arrival.push(sid.clone());
        if let Some(error) = error {
            self.report(&sid, exo_code(error.code), &error.details, desk);
        } else if desk.settings.delivery_reports {
            self.report(&sid, 30_001, "", desk);
            self.report(&sid, 30_002, "", desk);
        }
        Ok(Accepted {
            sid,
            to: to.to_owned(),
            reference_id,
        })
    }

    /// The delivery callback: an entry of `whatsapp.messages` and not of `statuses`, whatever one page says.
    fn report(&mut self, sid: &str, code: i64, why: &str, desk: &mut Desk) {
        let Some(message) = self.messages.get_mut(sid) else {
            return;
        };
        message.status = match code {
            30_001 => "sent",
            30_002 => "delivered",
            30_003 => "read",
            _ => "failed",
        };
        let (word, description) = described(code);
        let (date, time) = date_and_time(desk.now(), INDIA);
        let mut shown = json!({
            "callback_type": "dlr",
            "sid": sid,
            "to": message.to,
            "exo_status_code": code,
            "exo_detailed_status": word,
            "description": if why.is_empty() { description } else { why },
            "timestamp": format!("{date}T{time}.000+05:30"),
        });
        if let (Some(custom), Some(map)) = (&message.custom_data, shown.as_object_mut()) {
            map.insert("custom_data".to_owned(), custom.as_str().into());
        }
        let Some(account) = self.accounts.get(&message.account) else {
            return;
        };
        let url = message
            .status_callback
            .clone()
            .or_else(|| account.webhook_url.clone());
        if let Some(url) = url {
            let body = json!({"whatsapp": {"messages": [shown]}});
            desk.send(draft(
                account,
                &format!("status.{}", message.status),
                url,
                body.to_string().into_bytes(),
                JSON,
                message.reference_id.as_deref(),
            ));
        }
    }

    /// A customer writes: the window opens for 24 hours, and the shop is told.
    fn message_in(&mut self, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let phone = digits_of(
            wanted(request, "phone").ok_or_else(|| Refused::invalid("phone is missing"))?,
        );
        let account = self.one(wanted(request, "account"))?.clone();
        let until = self
            .phones
            .open_window(&account.account_sid, &phone, desk.now());
        let sid = desk.id(32).to_lowercase();
        // "If you pass receive messages webhook in send message ... reply messages from users will be triggered to the
        // respective URL": to the message that is answered. All others go to the account's.
        let is_reply = request.get("reply").and_then(Value::as_bool) == Some(true);
        let answered = self
            .order_of_arrival
            .iter()
            .rev()
            .filter_map(|sid| self.messages.get(sid))
            .find(|message| message.account == account.account_sid && message.to == phone)
            .and_then(|message| message.status_callback.clone())
            .filter(|_| is_reply);
        if let Some(url) = answered.or_else(|| account.webhook_url.clone()) {
            let name = wanted(request, "name").unwrap_or("Pallavi");
            let said = wanted(request, "text").unwrap_or("Hi");
            let (date, time) = date_and_time(desk.now(), INDIA);
            let timestamp = format!("{date}T{time}.000+05:30");
            let body = if account.inbound_type == "portal" {
                json!({
                    "event": "incoming_message",
                    "timestamp": timestamp,
                    "account_sid": account.account_sid,
                    "message": {
                        "id": sid,
                        "from": format!("+{phone}"),
                        "to": account.from,
                        "timestamp": timestamp,
                        "type": "text",
                        "text": {"body": said},
                    },
                    "contact": {"wa_id": phone, "profile": {"name": name}},
                })
            } else {
                let mut message = json!({
                    "callback_type": account.inbound_type,
                    "sid": sid,
                    "from": format!("+{phone}"),
                    "to": account.from,
                    "profile_name": name,
                    "content": {"type": "text", "text": {"body": said}},
                });
                // The older pages make it mandatory; what was seen has none.
                if let (true, Some(map)) = (account.inbound_type == "icm", message.as_object_mut())
                {
                    map.insert("timestamp".to_owned(), timestamp.into());
                }
                json!({"whatsapp": {"messages": [message]}})
            };
            desk.send(draft(
                &account,
                "message",
                url,
                body.to_string().into_bytes(),
                JSON,
                None,
            ));
        }
        Ok(Outcome::Done(json!({"id": sid, "window_until": until})))
    }

    /// A customer reads what came, all of it or one message. Nobody is told of an SMS that is read.
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
            .filter_map(|sid| Some((sid, self.messages.get(sid)?)))
            .filter(|(sid, message)| {
                !matches!(message.status, "read" | "failed")
                    && phone.as_ref().is_none_or(|phone| *phone == message.to)
                    && reference
                        .is_none_or(|wanted| message.reference_id.as_deref() == Some(wanted))
                    && id.is_none_or(|wanted| *sid == wanted)
            })
            .map(|(sid, _)| sid.clone())
            .collect();
        for sid in &read {
            self.report(sid, 30_003, "", desk);
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
            .tap("exotel", act, request, configurations, desk)?
        {
            Tapped::Attempted(key, done) => {
                let status = match act {
                    Act::Pay => "captured",
                    Act::Cancel => "canceled",
                    _ => "failed",
                };
                self.emit_payment(&key, status, desk);
                Ok(Outcome::Done(done))
            }
            Tapped::Elsewhere(outcome) => Ok(outcome),
        }
    }

    /// The payment webhook, in the one of its documented shapes the account has. None is confirmed by traffic.
    fn emit_payment(&self, key: &Key, status: &str, desk: &mut Desk) {
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
        let sid = self
            .order_of_arrival
            .iter()
            .find(|sid| {
                self.messages.get(*sid).is_some_and(|message| {
                    message.kind.ends_with("order_details")
                        && message.account == placed.account
                        && message.reference_id.as_ref() == Some(reference)
                        && message.status != "failed"
                })
            })
            .cloned()
            .unwrap_or_default();
        let (date, time) = date_and_time(desk.now(), 0);
        let body = match account.payment_webhook {
            PaymentWebhook::Flat if status == "refunded" => return,
            PaymentWebhook::Statuses if status == "refunded" => return,
            PaymentWebhook::Flat => json!({
                "event": "payment_status",
                "message_id": sid,
                "reference_id": reference,
                "payment_status": status,
                "amount": {"value": transaction.amount, "offset": 100, "currency": "INR"},
                "transaction_id": transaction.id,
                "timestamp": format!("{date}T{time}.000Z"),
            }),
            PaymentWebhook::Data => json!({
                "type": "payment_status",
                "data": {
                    "reference_id": reference,
                    "payment_id": transaction.pg_id,
                    "status": status,
                    "amount": {"value": transaction.amount, "offset": 100},
                    "transaction": {
                        "id": transaction.id,
                        "type": transaction.gateway,
                        "status": transaction.status,
                    },
                    "from": placed.to,
                },
            }),
            PaymentWebhook::Statuses => json!({
                "statuses": [{
                    "from": placed.to,
                    "id": sid,
                    "payment": {"reference_id": reference, "sender": digits_of(&account.from)},
                    "status": status,
                    "timestamp": desk.now().to_string(),
                    "type": "payment",
                }],
            }),
        };
        if let Some(url) = account.webhook_url.clone() {
            desk.send(draft(
                account,
                &format!("payment.{status}"),
                url,
                body.to_string().into_bytes(),
                JSON,
                Some(reference),
            ));
        }
    }

    /// `POST /v1/Accounts/<sid>/Sms/send` and `send.json`.
    fn sms(&mut self, account: &Account, call: &Call, is_json: bool, desk: &mut Desk) -> Answer {
        let form = call.form().unwrap_or_default();
        let field = |name: &str| {
            form.iter()
                .find(|(found, _)| found == name)
                .map(|(_, value)| value.as_str())
                .filter(|value| !value.is_empty())
        };
        let (from, to) = match check_sms(account, &field) {
            Ok(checked) => checked,
            Err((code, why)) => return sms_error(400, code, why, is_json),
        };
        let text = field("Body").unwrap_or_default();
        let result = if let Some(planned) = desk.next_async_error.take() {
            Err(planned
                .get("code")
                .and_then(Value::as_i64)
                .unwrap_or(24_010))
        } else {
            account
                .sms
                .dlt
                .scrub(&from, field("DltEntityId"), field("DltTemplateId"), text)
                .map_err(scrubbed_code)
        };
        let is_promotional = field("SmsType") == Some("promotional");
        let result = result.and_then(|()| {
            self.phones
                .sms(&to, is_promotional)
                .map_err(|why| match why {
                    NoSms::Off => 23_035,
                    NoSms::Undisturbed => 23_005,
                })
        });
        let (status, detail) = match result {
            Ok(()) if !desk.settings.delivery_reports => ("queued", 21_010),
            Ok(()) => ("sent", 20_005),
            Err(23_005) => (account.sms.dnd_word.as_str(), 23_005),
            Err(code) => ("failed", code),
        };
        let sms = Sms {
            account: account.account_sid.clone(),
            from,
            to,
            text: text.to_owned(),
            parts: parts(text),
            custom_field: field("CustomField").map(str::to_owned),
            status_callback: field("StatusCallback")
                .map(str::to_owned)
                .or_else(|| account.sms.status_callback.clone()),
            status: status.to_owned(),
            detail,
            at: desk.now(),
        };
        let sid = desk.id(32).to_lowercase();
        // Accepted is queued, whatever becomes of it.
        let queued = Sms {
            status: "queued".to_owned(),
            detail: 21_010,
            ..sms.clone()
        };
        let answer = show_answer(&sid, &queued, is_json);
        if sms.status != "queued" {
            report_sms(account, &sid, &sms, desk);
        }
        self.texts.insert(sid.clone(), sms);
        self.order_of_arrival.push(sid);
        answer
    }
}

fn bad_request(refusal: &Refusal, desk: &mut Desk) -> Answer {
    let code = exo_code(refusal.code);
    v2_error(400, code, described(code).0, &refusal.details, desk)
}

fn show_result(result: &Result<Accepted, Refusal>) -> Value {
    match result {
        Ok(accepted) => json!({
            "code": 202,
            "error_data": null,
            "status": "success",
            "data": {"sid": accepted.sid},
        }),
        Err(refusal) => {
            let code = exo_code(refusal.code);
            json!({
                "code": 400,
                "error_data": {"code": code, "message": described(code).0, "description": refusal.details},
                "status": "failure",
                "data": null,
            })
        }
    }
}

/// What the SMS API refuses at once, in its own numbers; sender and recipient if it does not.
fn check_sms<'a>(
    account: &Account,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Result<(String, String), (i64, &'static str)> {
    let body = field("Body").unwrap_or_default();
    if body.is_empty() || body.chars().count() > LONGEST_SMS {
        return Err((40_200, "Body must have 1 to 2000 characters"));
    }
    let to = field("To").unwrap_or_default();
    let digits =
        wa_id(to.trim_start_matches('0')).map_err(|_| (40_203, "To must be a mobile number"))?;
    let kind = field("SmsType").unwrap_or("transactional");
    if !["transactional", "transactional_opt_in", "promotional"].contains(&kind) {
        return Err((
            40_204,
            "SmsType must be transactional, transactional_opt_in or promotional",
        ));
    }
    if field("EncodingType").is_some_and(|kind| !["plain", "unicode"].contains(&kind)) {
        return Err((40_209, "EncodingType must be plain or unicode"));
    }
    let from = field("From").unwrap_or_default();
    let is_header = from.len() == 6 && from.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_number = from.len() >= 6
        && from
            .trim_start_matches('+')
            .bytes()
            .all(|byte| byte.is_ascii_digit());
    if !is_header && !is_number {
        return Err((
            40_205,
            "From must be an ExoPhone or a header of 6 characters",
        ));
    }
    if account
        .sms
        .linked_senders
        .as_ref()
        .is_some_and(|linked| !linked.iter().any(|known| known == from))
    {
        return Err((40_210, "From is not linked to this account"));
    }
    if kind == "promotional" && !is_number {
        return Err((40_206, "From does not fit SmsType"));
    }
    Ok((from.to_owned(), format!("+{digits}")))
}

/// The callback at the terminal state, as a form.
fn report_sms(account: &Account, sid: &str, sms: &Sms, desk: &mut Desk) {
    let Some(url) = sms.status_callback.clone() else {
        return;
    };
    let units = sms.parts.count.to_string();
    let code = sms.detail.to_string();
    let sent = indian_time(desk.now());
    let mut fields = vec![
        ("SmsSid", sid),
        ("To", sms.to.as_str()),
        ("Status", sms.status.as_str()),
        ("SmsUnits", units.as_str()),
        ("DetailedStatus", sms_word(sms.detail)),
        ("DetailedStatusCode", code.as_str()),
        ("DateSent", sent.as_str()),
    ];
    if let Some(custom) = &sms.custom_field {
        fields.push(("CustomField", custom));
    }
    let body = fields
        .iter()
        .map(|(name, value)| {
            let value =
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
            format!("{name}={value}")
        })
        .collect::<Vec<_>>()
        .join("&");
    let event = if sms.status == "sent" {
        "sms.sent"
    } else {
        "sms.failed"
    };
    desk.send(draft(
        account,
        event,
        url,
        body.into_bytes(),
        FORM,
        sms.custom_field.as_deref(),
    ));
}
