//! Meta's WhatsApp Cloud API: order messages for India, templates, delivery reports, payments and their webhooks.
//!
//! Written from Meta's pages "Payments API - India" (payment gateway, UPI intent, payment links, order details template,
//! order status template, onboarding; copies of October 2025 to May 2026), "Media", "Webhooks", "Business-scoped user IDs"
//! (March 2026) and "Error codes". What they leave open is decided here and said so.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use sha2::{Digest, Sha256};

use super::order_details::{Leniency, Payment};
use super::whatsapp::{
    Configuration, Content, NoRefund, Phones, Refund, RefundsEnd, Refusal, Strictness, Tapped,
    Template, check_media, digits_of, message_kind, message_operation, read_interactive,
    read_template, strict, wa_id,
};
use super::{Act, Outcome, Refused, Vendor, merged, wanted};
use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};
use crate::sign::hmac_sha256_hex;
use crate::strict::Fields;

const OPERATIONS: &[&str] = &[
    "send_message.order_details",
    "send_message.order_status",
    "send_message.template_order_details",
    "send_message.template_order_status",
    "send_message.template_body",
    "send_message.text",
    "send_message.image",
    "send_message.other",
    "upload_media",
    "lookup_payment",
    "refund_payment",
    "list_payment_configurations",
    "get_payment_configuration",
    "list_templates",
    "get_phone_number",
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
    "user_preferences",
    "forged",
];

/// "Media": "persist for 30 days".
const MEDIA_KEPT: i64 = 30 * 24 * 60 * 60;
/// "Supported media types": images of at most 5 MB.
const LARGEST_IMAGE: usize = 5 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum WindowError {
    /// 200 and a message id, then a `failed` report: what is measured in practice.
    #[default]
    Async,
    /// 400 at once: what the error table reads like.
    Sync,
}

/// An account, as `POST /_control/accounts` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    phone_number_id: String,
    waba_id: String,
    access_token: String,
    app_secret: String,
    #[serde(default)]
    verify_token: String,
    #[serde(default)]
    webhook_url: Option<String>,
    #[serde(default = "display_phone_number")]
    display_phone_number: String,
    #[serde(default)]
    configurations: Vec<Configuration>,
    #[serde(default)]
    templates: Vec<Template>,
    #[serde(default)]
    window_error: WindowError,
    /// Whether importer fields are required of items without a catalogue.
    #[serde(default)]
    importer_fields: Strictness,
    /// Whether a UPI link may carry more than the supported parameters.
    #[serde(default = "strict")]
    upi_link_params: Strictness,
    /// Whether the pair `payment_type` and `payment_configuration` still does without `payment_settings`.
    #[serde(default)]
    legacy_payment: bool,
    #[serde(default)]
    refunds: RefundsEnd,
}

fn display_phone_number() -> String {
    "918045210677".to_owned()
}

impl Account {
    fn leniency(&self) -> Leniency {
        Leniency {
            importer_fields: self.importer_fields == Strictness::Lenient,
            legacy_payment: self.legacy_payment,
            upi_link_params: self.upi_link_params == Strictness::Lenient,
            totals: false,
        }
    }
}

/// A message that was accepted.
#[derive(Debug, Clone)]
struct Message {
    id: String,
    account: String,
    to: String,
    kind: &'static str,
    reference_id: Option<String>,
    opaque: Option<String>,
    status: &'static str,
    at: i64,
    body: Value,
}

/// A file that was uploaded.
#[derive(Debug, Clone)]
struct Media {
    account: String,
    kind: String,
    until: i64,
}

/// Meta.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    accounts: BTreeMap<String, Account>,
    /// The accounts as they were given.
    said: BTreeMap<String, Value>,
    messages: BTreeMap<String, Message>,
    order_of_arrival: Vec<String>,
    phones: Phones,
    media: BTreeMap<String, Media>,
    /// Phones whose owners have a username: their numbers are not shown.
    nameless: BTreeSet<String>,
}

/// "Business-scoped user IDs": country code, a dot and up to 128 letters and digits. The same for the same phone.
fn user_id(phone: &str) -> String {
    let digits: String = Sha256::digest(phone.as_bytes())
        .iter()
        .take(16)
        .map(|byte| char::from(b'0'.saturating_add(byte % 10)))
        .collect();
    format!("IN.{digits}")
}

/// HTTP status and message of Meta's codes ("Error codes").
fn described(code: i64) -> (u16, &'static str) {
    match code {
        1 => (400, "API Unknown"),
        2 => (503, "API Service"),
        4 => (400, "API Too Many Calls"),
        10 => (403, "API Permission"),
        33 | 131_009 => (400, "Parameter value is not valid"),
        100 => (400, "Invalid parameter"),
        190 => (
            401,
            "Invalid OAuth access token - Cannot parse access token",
        ),
        368 => (403, "Temporarily blocked for policies violations"),
        2046 => (400, "New order status was not correctly transitioned."),
        2047 => (400, "Could not change order status to 'canceled'"),
        80_007 => (400, "Rate limit issues"),
        130_429 => (400, "Rate limit hit"),
        131_000 => (500, "Something went wrong"),
        131_005 => (403, "Access denied"),
        131_008 => (400, "Required parameter is missing"),
        131_016 => (500, "Service unavailable"),
        131_021 => (400, "Recipient cannot be sender"),
        131_026 => (400, "Message undeliverable"),
        131_031 => (403, "Business Account locked"),
        131_047 => (400, "Re-engagement message"),
        131_048 => (400, "Spam Rate limit hit"),
        131_049 => (
            400,
            "This message was not delivered to maintain healthy ecosystem engagement.",
        ),
        131_051 => (400, "Unsupported message type"),
        131_053 => (400, "Media upload error"),
        131_056 => (
            400,
            "(Business Account, Consumer Account) pair rate limit hit",
        ),
        131_057 => (500, "Account in maintenance mode"),
        132_000 => (
            400,
            "Number of parameters does not match the expected number of params",
        ),
        132_001 => (404, "Template name does not exist in the translation"),
        132_012 => (
            400,
            "Parameter format does not match format in the created template",
        ),
        132_015 => (400, "Template is paused"),
        132_016 => (400, "Template is disabled"),
        133_010 => (400, "Phone number not registered"),
        134_011 => (
            400,
            "WhatsApp Payments terms of service has not been accepted",
        ),
        _ => (400, "Generic user error"),
    }
}

fn error_body(code: i64, details: &str, desk: &mut Desk) -> Value {
    let (_, message) = described(code);
    json!({"error": {
        "message": format!("(#{code}) {message}"),
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": details},
        "fbtrace_id": format!("A{}", desk.id(22)),
    }})
}

fn refuse(refusal: &Refusal, desk: &mut Desk) -> Answer {
    let (status, _) = described(refusal.code);
    Answer::json(status, &error_body(refusal.code, &refusal.details, desk))
}

/// The Graph API's own words for an object it does not have or does not show to this token.
fn no_such_object(method: &str, id: &str, desk: &mut Desk) -> Answer {
    let kind = method.to_ascii_lowercase();
    Answer::json(
        400,
        &json!({"error": {
            "message": format!("Unsupported {kind} request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation"),
            "type": "GraphMethodException",
            "code": 100,
            "error_subcode": 33,
            "fbtrace_id": format!("A{}", desk.id(22)),
        }}),
    )
}

/// The look-up's own envelope ("Payment gateway", step 5); the only error it prints.
fn lookup_error() -> Answer {
    Answer::json(
        500,
        &json!({"errors": [{"code": 500, "title": "Generic error", "details": "System error. Please try again."}]}),
    )
}

/// JSON in ASCII: Meta signs and sends non-ASCII characters as `\uXXXX` ("Webhooks", validating payloads).
fn ascii_json(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    for character in value.to_string().chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            let mut units = [0_u16; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out.into_bytes()
}

impl Vendor for Meta {
    fn name(&self) -> &'static str {
        "meta"
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
            ("POST", [_, "messages"]) => message_operation(&call.json().unwrap_or_default()),
            ("POST", [_, "media"]) => "upload_media",
            ("GET", [_, "payments", _, _]) => "lookup_payment",
            ("POST", [_, "payments_refund"]) => "refund_payment",
            ("GET", [_, "payment_configurations"]) => "list_payment_configurations",
            ("GET", [_, "payment_configuration", _]) => "get_payment_configuration",
            ("GET", [_, "message_templates"]) => "list_templates",
            ("GET", [_]) => "get_phone_number",
            _ => "unknown",
        }
    }

    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let token = call
            .header("authorization")
            .and_then(|header| header.strip_prefix("Bearer "))
            .unwrap_or_default();
        if !self
            .accounts
            .values()
            .any(|account| account.access_token == token)
        {
            return Answer::json(
                401,
                &json!({"error": {
                    "message": "Invalid OAuth access token - Cannot parse access token",
                    "type": "OAuthException",
                    "code": 190,
                    "fbtrace_id": format!("A{}", desk.id(22)),
                }}),
            );
        }
        let (method, segments) = call.route();
        let id = segments.first().copied().unwrap_or_default();
        let of_business = matches!(
            segments.get(1),
            Some(&("payment_configurations" | "payment_configuration" | "message_templates"))
        );
        let Some(account) = self
            .accounts
            .values()
            .find(|account| {
                let found = if of_business {
                    &account.waba_id
                } else {
                    &account.phone_number_id
                };
                found == id && account.access_token == token
            })
            .cloned()
        else {
            return no_such_object(method, id, desk);
        };
        let mut answer = match (method, segments.as_slice()) {
            ("POST", [_, "messages"]) => match self.send(&account, call, desk) {
                Ok(answer) => answer,
                Err(refusal) => refuse(&refusal, desk),
            },
            ("POST", [_, "media"]) => match self.upload(&account, call, desk) {
                Ok(answer) => answer,
                Err(refusal) => refuse(&refusal, desk),
            },
            ("GET", [_, "payments", configuration, reference]) => {
                self.lookup(&account, configuration, reference)
            }
            ("POST", [_, "payments_refund"]) => match self.refund(&account, call, desk) {
                Ok(answer) => answer,
                Err(refusal) => refuse(&refusal, desk),
            },
            ("GET", [_, "payment_configurations"]) => {
                let all: Vec<Value> = account
                    .configurations
                    .iter()
                    .map(|configuration| show_configuration(configuration, desk.now()))
                    .collect();
                Answer::json(200, &json!({"data": [{"payment_configurations": all}]}))
            }
            ("GET", [_, "payment_configuration", name]) => {
                let found: Vec<Value> = account
                    .configurations
                    .iter()
                    .filter(|configuration| configuration.configuration_name == *name)
                    .map(|configuration| show_configuration(configuration, desk.now()))
                    .collect();
                Answer::json(200, &json!({"data": found}))
            }
            ("GET", [_, "message_templates"]) => {
                let all: Vec<Value> = account
                    .templates
                    .iter()
                    .filter(|template| call.param("name").is_none_or(|name| name == template.name))
                    .map(|template| {
                        json!({"name": template.name, "language": template.language, "status": template.status, "category": "UTILITY"})
                    })
                    .collect();
                Answer::json(200, &json!({"data": all}))
            }
            ("GET", [_]) => Answer::json(
                200,
                &json!({
                    "id": account.phone_number_id,
                    "display_phone_number": account.display_phone_number,
                    "verified_name": "Sandbox",
                    "quality_rating": "GREEN",
                }),
            ),
            _ => no_such_object(method, id, desk),
        };
        answer.account = Some(account.phone_number_id);
        answer
    }

    fn error(&self, status: u16, code: Option<i64>, desk: &mut Desk) -> Value {
        let code = code.unwrap_or(match status {
            401 => 190,
            403 => 131_005,
            404 => 132_001,
            429 => 130_429,
            503 => 2,
            500..=599 => 131_000,
            _ => 100,
        });
        error_body(code, "Planned by the sandbox's control API.", desk)
    }

    fn register(&mut self, account: &Value) -> Result<(), Refused> {
        let (id, said) = merged(&self.said, "phone_number_id", account)?;
        let account: Account = serde_json::from_value(said.clone())
            .map_err(|error| Refused::invalid(format!("meta: {error}")))?;
        self.said.insert(id.clone(), said);
        self.accounts.insert(id, account);
        Ok(())
    }

    fn tick(&mut self, _desk: &mut Desk) {}

    fn owns(&self, _link: &str) -> bool {
        false
    }

    fn customer(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        match act {
            Act::Message => match wanted(request, "marketing") {
                Some(wish) => self.prefer(wish, request, desk),
                None => self.message_in(request, desk),
            },
            Act::Read => self.read(request, desk),
            Act::Pay | Act::Fail | Act::Cancel => self.pay(act, request, desk),
        }
    }

    fn mirror(&mut self, mirror: &Mirror, desk: &mut Desk) {
        if let Some(key) = self.phones.hear("meta", mirror, desk.now()) {
            self.emit_payment(&key, desk);
        }
    }

    fn settle_refund(
        &mut self,
        id: &str,
        status: &str,
        _speed: Option<&str>,
        desk: &mut Desk,
    ) -> Result<Value, Refused> {
        let (key, status) = self.phones.settle("meta", id, status, desk)?;
        self.emit_payment(&key, desk);
        Ok(json!({"id": id, "status": status}))
    }

    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        signature: Option<&str>,
        _desk: &mut Desk,
    ) -> Result<HookDraft, Refused> {
        let account = match account {
            Some(id) => self.accounts.get(id),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such Meta account"))?;
        let mut draft = draft(account, "forged", body, None)
            .ok_or_else(|| Refused::unknown("the account has no webhook_url"))?;
        if let Some(signature) = signature {
            for (name, value) in &mut draft.headers {
                if name == "X-Hub-Signature-256" {
                    signature.clone_into(value);
                }
            }
        }
        Ok(draft)
    }

    fn verification_url(
        &self,
        account: Option<&str>,
        token: Option<&str>,
        challenge: &str,
    ) -> Option<String> {
        let account = match account {
            Some(id) => self.accounts.get(id),
            None => self.accounts.values().next(),
        }?;
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        Some(format!(
            "{}?hub.mode=subscribe&hub.challenge={}&hub.verify_token={}",
            account.webhook_url.as_ref()?,
            encode(challenge),
            encode(token.unwrap_or(&account.verify_token)),
        ))
    }

    fn inbox(&self, phone: &str) -> Vec<Value> {
        let phone = digits_of(phone);
        self.order_of_arrival
            .iter()
            .filter_map(|id| self.messages.get(id))
            .filter(|message| message.to == phone && message.status != "failed")
            .map(|message| {
                json!({
                    "channel": "whatsapp",
                    "vendor": "meta",
                    "account": message.account,
                    "id": message.id,
                    "at": message.at,
                    "kind": message.kind,
                    "reference_id": message.reference_id,
                    "status": message.status,
                    "body": message.body,
                })
            })
            .collect()
    }

    fn set_phone(&mut self, phone: &str, request: &Value) {
        self.phones.set(phone, request);
        let phone = digits_of(phone);
        match request.get("username").and_then(Value::as_bool) {
            Some(true) => {
                self.nameless.insert(phone);
            }
            Some(false) => {
                self.nameless.remove(&phone);
            }
            None => {}
        }
    }
}

fn show_configuration(configuration: &Configuration, now: i64) -> Value {
    let mut shown = json!({
        "configuration_name": configuration.configuration_name,
        "merchant_category_code": {"code": "0000", "description": "Test MCC Code"},
        "purpose_code": {"code": "00", "description": "Test Purpose Code"},
        "status": configuration.status,
        "provider_name": configuration.provider_name,
        "created_timestamp": now,
        "updated_timestamp": now,
    });
    if let Some(map) = shown.as_object_mut() {
        if let Some(mid) = &configuration.provider_mid {
            map.insert("provider_mid".to_owned(), mid.as_str().into());
        }
        if let Some(vpa) = &configuration.merchant_vpa {
            map.insert("merchant_vpa".to_owned(), vpa.as_str().into());
        }
    }
    shown
}

/// Signs a webhook ("Webhooks", validating payloads): `sha256=` and the hex HMAC of the raw body, keyed with the app secret.
fn draft(
    account: &Account,
    event: &str,
    body: Vec<u8>,
    reference_id: Option<&str>,
) -> Option<HookDraft> {
    let url = account.webhook_url.clone()?;
    let signature = hmac_sha256_hex(account.app_secret.as_bytes(), &body);
    Some(HookDraft {
        vendor: "meta",
        account: account.phone_number_id.clone(),
        event: event.to_owned(),
        reference_id: reference_id.map(str::to_owned),
        url,
        headers: vec![
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("User-Agent".to_owned(), "facebookexternalua/1.0".to_owned()),
            (
                "X-Hub-Signature-256".to_owned(),
                format!("sha256={signature}"),
            ),
        ],
        body,
    })
}

impl Meta {
    /// `POST /{phone_number_id}/messages`.
    fn send(&mut self, account: &Account, call: &Call, desk: &mut Desk) -> Result<Answer, Refusal> {
        let body = call
            .json()
            .ok_or_else(|| Refusal::new(100, "The parameter messaging_product is required."))?;
        let fields = Fields::of(
            &body,
            "",
            &[
                "messaging_product",
                "recipient_type",
                "to",
                "type",
                "interactive",
                "template",
                "text",
                "image",
                "context",
                "biz_opaque_callback_data",
            ],
        )?;
        fields.need_word("messaging_product", &["whatsapp"])?;
        fields.word("recipient_type", &["individual"])?;
        let to = fields.need_text("to", 30)?;
        let customer = wa_id(to)?;
        if customer == digits_of(&account.display_phone_number) {
            return Err(Refusal::new(131_021, "to is the sender's own number"));
        }
        let opaque = fields.text("biz_opaque_callback_data", 512)?;
        if let Some(context) = fields.object("context", &["message_id"])? {
            context.need_text("message_id", 512)?;
        }
        let kind = fields.need_text("type", 30)?;
        if !["interactive", "template", "text", "image"].contains(&kind) {
            return Err(Refusal::new(
                131_051,
                format!("type {kind:?} is not supported"),
            ));
        }
        for other in ["interactive", "template", "text", "image"] {
            if other != kind && fields.has(other) {
                return Err(Refusal::new(100, format!("Unexpected key \"{other}\"")));
            }
        }
        let content = match kind {
            "interactive" => read_interactive(
                fields.need("interactive")?,
                kind,
                desk.now(),
                account.leniency(),
            )?,
            "template" => read_template(
                fields.need("template")?,
                kind,
                &account.templates,
                desk.now(),
                account.leniency(),
            )?,
            "text" => {
                let text = fields.need_object("text", &["body", "preview_url"])?;
                text.need_text("body", 4096)?;
                text.boolean("preview_url")?;
                Content::Plain
            }
            _ => {
                let image = fields.need_object("image", &["link", "id", "caption"])?;
                image.text("caption", 1024)?;
                check_media(&image)?;
                Content::Plain
            }
        };
        self.check_files(account, &body, desk.now())?;
        self.phones.check_unused(&account.waba_id, &content)?;
        let is_open = self
            .phones
            .is_open(&account.phone_number_id, &customer, desk.now());
        let needs_window = kind != "template" && !is_open;
        if needs_window && account.window_error == WindowError::Sync {
            return Err(Refusal::new(
                131_047,
                "Message failed to send because more than 24 hours have passed since the customer last replied to this number.",
            ));
        }
        let error = if let Some(planned) = desk.next_async_error.take() {
            Some(planned_error(planned))
        } else if needs_window {
            Some(hook_error(
                131_047,
                "Message failed to send because more than 24 hours have passed since the customer last replied to this number.",
            ))
        } else if !self.phones.is_reachable(&customer) {
            Some(hook_error(131_026, "Message Undeliverable."))
        } else {
            self.phones
                .apply(
                    &account.waba_id,
                    &account.phone_number_id,
                    &customer,
                    &content,
                )
                .map(|refusal| hook_error(refusal.code, &refusal.details))
        };
        let reference_id = match content {
            Content::Order(order) => Some(order.reference_id),
            Content::Status { reference_id, .. } => Some(reference_id),
            Content::Plain => None,
        };
        let id = format!("wamid.HBgM{}", desk.id(44));
        let message = Message {
            id: id.clone(),
            account: account.phone_number_id.clone(),
            to: customer.clone(),
            kind: message_kind(&body),
            reference_id: reference_id.clone(),
            opaque: opaque.map(str::to_owned),
            status: "accepted",
            at: desk.now(),
            body: body.clone(),
        };
        self.messages.insert(id.clone(), message);
        self.order_of_arrival.push(id.clone());
        if let Some(error) = error {
            self.report(&id, "failed", Some(error), desk);
        } else if desk.settings.delivery_reports {
            self.report(&id, "sent", None, desk);
            self.report(&id, "delivered", None, desk);
        }
        let mut sent = json!({"id": id});
        if let (true, Some(sent)) = (kind == "template", sent.as_object_mut()) {
            sent.insert("message_status".to_owned(), "accepted".into());
        }
        let answer = Answer::json(
            200,
            &json!({
                "messaging_product": "whatsapp",
                "contacts": [{"input": to, "wa_id": customer}],
                "messages": [sent],
            }),
        );
        Ok(match reference_id {
            Some(reference) => answer.about(reference),
            None => answer,
        })
    }

    fn report(&mut self, id: &str, status: &'static str, error: Option<Value>, desk: &mut Desk) {
        let Some(message) = self.messages.get_mut(id) else {
            return;
        };
        message.status = status;
        let mut shown = json!({
            "id": message.id,
            "status": status,
            "timestamp": desk.now().to_string(),
        });
        name_recipient(&mut shown, &message.to, &self.nameless);
        if let Some(map) = shown.as_object_mut() {
            if let Some(opaque) = &message.opaque {
                map.insert(
                    "biz_opaque_callback_data".to_owned(),
                    opaque.as_str().into(),
                );
            }
            if let Some(error) = error {
                map.insert("errors".to_owned(), json!([error]));
            } else if status == "sent" || status == "delivered" {
                map.insert(
                    "pricing".to_owned(),
                    json!({"billable": true, "pricing_model": "PMP", "category": "utility", "type": "regular"}),
                );
            }
        }
        let reference = message.reference_id.clone();
        let Some(account) = self.accounts.get(&message.account) else {
            return;
        };
        emit(
            account,
            &format!("status.{status}"),
            json!({"statuses": [shown]}),
            reference.as_deref(),
            desk,
        );
    }

    /// A customer writes: the window opens for 24 hours, and the shop is told.
    fn message_in(&mut self, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let phone = digits_of(
            wanted(request, "phone").ok_or_else(|| Refused::invalid("phone is missing"))?,
        );
        let account = match wanted(request, "account") {
            Some(id) => self.accounts.get(id),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such Meta account"))?;
        let until = self
            .phones
            .open_window(&account.phone_number_id, &phone, desk.now());
        let id = format!("wamid.HBgM{}", desk.id(44));
        let name = wanted(request, "name").unwrap_or("Pallavi");
        let mut contact = json!({"profile": {"name": name}});
        let mut message = written(request);
        if let (Some(contact), Some(message)) = (contact.as_object_mut(), message.as_object_mut()) {
            message.insert("id".to_owned(), id.as_str().into());
            message.insert("timestamp".to_owned(), desk.now().to_string().into());
            if self.nameless.contains(&phone) {
                contact.insert("user_id".to_owned(), user_id(&phone).into());
                message.insert("from_user_id".to_owned(), user_id(&phone).into());
                contact.insert(
                    "profile".to_owned(),
                    json!({"name": name, "username": format!("@{}", name.to_lowercase())}),
                );
            } else {
                contact.insert("wa_id".to_owned(), phone.as_str().into());
                message.insert("from".to_owned(), phone.as_str().into());
            }
        }
        emit(
            account,
            "message",
            json!({"contacts": [contact], "messages": [message]}),
            None,
            desk,
        );
        Ok(Outcome::Done(json!({"id": id, "window_until": until})))
    }

    /// A customer stops or resumes the shop's marketing messages. It is a setting of the app, so no window opens.
    fn prefer(&mut self, wish: &str, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        if !["stop", "resume"].contains(&wish) {
            return Err(Refused::invalid("marketing must be stop or resume"));
        }
        let phone = digits_of(
            wanted(request, "phone").ok_or_else(|| Refused::invalid("phone is missing"))?,
        );
        let account = match wanted(request, "account") {
            Some(id) => self.accounts.get(id),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such Meta account"))?;
        emit(
            account,
            "user_preferences",
            json!({
                "contacts": [{"wa_id": phone}],
                "user_preferences": [{
                    "wa_id": phone,
                    "detail": format!("User requested to {wish} marketing messages"),
                    "category": "marketing_messages",
                    "value": wish,
                    "timestamp": desk.now(),
                }],
            }),
            None,
            desk,
        );
        Ok(Outcome::Done(json!({"marketing": wish})))
    }

    /// "Media", upload: a form with `messaging_product`, `type` and `file`.
    fn upload(
        &mut self,
        account: &Account,
        call: &Call,
        desk: &mut Desk,
    ) -> Result<Answer, Refusal> {
        let parts = call
            .parts()
            .ok_or_else(|| Refusal::new(100, "The body is not a multipart form."))?;
        let field = |name: &str| {
            parts
                .iter()
                .find(|part| part.name == name)
                .ok_or_else(|| Refusal::new(100, format!("The parameter {name} is required.")))
        };
        if field("messaging_product")?.content != b"whatsapp" {
            return Err(Refusal::new(100, "messaging_product must be whatsapp"));
        }
        let kind = String::from_utf8_lossy(field("type")?.content).into_owned();
        let file = field("file")?;
        if file.filename.is_none() {
            return Err(Refusal::new(100, "Param file must be a file."));
        }
        if file.kind != Some(kind.as_str()) || !["image/jpeg", "image/png"].contains(&kind.as_str())
        {
            return Err(Refusal::new(
                100,
                format!(
                    "Param file must be a file with one of the following types: image/jpeg, image/png. Received file of type '{}'.",
                    file.kind.unwrap_or("application/octet-stream")
                ),
            ));
        }
        check_image(&kind, file.content)?;
        let id = desk.digits(16);
        self.media.insert(
            id.clone(),
            Media {
                account: account.phone_number_id.clone(),
                kind,
                until: desk.now().saturating_add(MEDIA_KEPT),
            },
        );
        Ok(Answer::json(200, &json!({"id": id})))
    }

    /// Every file a message names by id must have been uploaded by this number, be of that kind and not have expired.
    fn check_files(&self, account: &Account, message: &Value, now: i64) -> Result<(), Refusal> {
        let mut named = Vec::new();
        named_files(message, &mut named);
        for (kind, id) in named {
            let known = self.media.get(id).is_some_and(|media| {
                media.account == account.phone_number_id
                    && media.until > now
                    && media.kind.starts_with(kind)
            });
            if !known {
                return Err(Refusal::new(
                    131_009,
                    format!("{kind}.id {id:?} is no media of this number"),
                ));
            }
        }
        Ok(())
    }

    /// A customer reads what came, all of it or one message.
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
            .filter_map(|id| self.messages.get(id))
            .filter(|message| {
                !matches!(message.status, "read" | "failed")
                    && phone.as_ref().is_none_or(|phone| *phone == message.to)
                    && reference
                        .is_none_or(|wanted| message.reference_id.as_deref() == Some(wanted))
                    && id.is_none_or(|wanted| message.id == wanted)
            })
            .map(|message| message.id.clone())
            .collect();
        for id in &read {
            self.report(id, "read", None, desk);
        }
        Ok(Outcome::Done(json!({"read": read})))
    }

    /// A customer taps Pay.
    fn pay(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let accounts = &self.accounts;
        let configurations = |id: &str| {
            accounts
                .get(id)
                .map_or(&[][..], |account| account.configurations.as_slice())
        };
        match self
            .phones
            .tap("meta", act, request, configurations, desk)?
        {
            Tapped::Attempted(key, done) => {
                self.emit_payment(&key, desk);
                Ok(Outcome::Done(done))
            }
            Tapped::Elsewhere(outcome) => Ok(outcome),
        }
    }

    /// The payment status webhook about an order's last transaction ("Payment gateway", payment webhooks).
    fn emit_payment(&mut self, key: &(String, String), desk: &mut Desk) {
        let Some(placed) = self.phones.orders.get(key) else {
            return;
        };
        let (Some(transaction), Some(account)) = (
            placed.captured().or_else(|| placed.transactions.last()),
            self.accounts.get(&placed.account),
        ) else {
            return;
        };
        let status = if transaction.status == "success" {
            "captured"
        } else {
            "pending"
        };
        let mut shown = json!({
            "id": transaction.id,
            "pg_transaction_id": transaction.pg_id,
            "type": transaction.gateway,
            "status": transaction.status,
            "created_timestamp": transaction.at,
            "updated_timestamp": desk.now(),
            "method": {"type": transaction.method},
        });
        if let (Some(error), Some(map)) = (&transaction.error, shown.as_object_mut()) {
            map.insert("error".to_owned(), error.clone());
        }
        let mut payment = json!({
            "reference_id": placed.order.reference_id,
            "amount": {"value": transaction.amount, "offset": 100},
            "currency": "INR",
            "transaction": shown,
        });
        if let Some(map) = payment.as_object_mut() {
            map.extend(placed.extras());
            // Beside the transaction here; inside it in the look-up.
            if !transaction.refunds.is_empty() {
                map.insert("refunds".to_owned(), show_refunds(&transaction.refunds));
            }
        }
        let mut value = json!({"statuses": [{
            "id": format!("gBGG{}", desk.id(22)),
            "type": "payment",
            "status": status,
            "payment": payment,
            "timestamp": desk.now().to_string(),
        }]});
        if let Some(shown) = value.pointer_mut("/statuses/0") {
            name_recipient(shown, &placed.to, &self.nameless);
        }
        emit(
            account,
            &format!("payment.{status}"),
            value,
            Some(&placed.order.reference_id),
            desk,
        );
    }

    /// `GET /{phone_number_id}/payments/{configuration_name}/{reference_id}`.
    fn lookup(&self, account: &Account, configuration: &str, reference: &str) -> Answer {
        let key = (account.waba_id.clone(), reference.to_owned());
        let Some(placed) = self.phones.orders.get(&key) else {
            return lookup_error().about(reference);
        };
        let fits = matches!(
            &placed.order.payment,
            Payment::Gateway { configuration: found, .. } if found == configuration
        );
        if !fits {
            return lookup_error().about(reference);
        }
        let total = json!({"value": placed.order.total, "offset": 100});
        let status = if placed.captured().is_some() {
            "captured"
        } else {
            "pending"
        };
        let mut payment = json!({
            "reference_id": reference,
            "status": status,
            "amount": total,
            "currency": "INR",
        });
        let transactions: Vec<Value> = placed
            .transactions
            .iter()
            .map(|transaction| {
                let mut shown = json!({
                    "id": transaction.id,
                    "pg_transaction_id": transaction.pg_id,
                    "type": transaction.gateway,
                    "status": transaction.status,
                    "created_timestamp": transaction.at,
                    "updated_timestamp": transaction.at,
                    "amount": {"value": transaction.amount, "offset": 100},
                    "order_amount": total,
                    "currency": "INR",
                    "method": {"type": transaction.method},
                });
                if let Some(map) = shown.as_object_mut() {
                    if let Some(error) = &transaction.error {
                        map.insert("error".to_owned(), error.clone());
                    }
                    if !transaction.refunds.is_empty() {
                        map.insert("refunds".to_owned(), show_refunds(&transaction.refunds));
                    }
                }
                shown
            })
            .collect();
        if let Some(map) = payment.as_object_mut() {
            map.extend(placed.extras());
            // "No attempt yet: no `transactions` key."
            if !transactions.is_empty() {
                map.insert("transactions".to_owned(), transactions.into());
            }
        }
        Answer::json(200, &json!({"payments": [payment]})).about(reference)
    }

    /// `POST /{phone_number_id}/payments_refund`: value and offset are strings here.
    fn refund(
        &mut self,
        account: &Account,
        call: &Call,
        desk: &mut Desk,
    ) -> Result<Answer, Refusal> {
        let body = call
            .json()
            .ok_or_else(|| Refusal::new(100, "The body is not JSON."))?;
        let fields = Fields::of(
            &body,
            "",
            &["reference_id", "speed", "payment_config_id", "amount"],
        )?;
        let reference = fields.need_text("reference_id", 35)?;
        let speed = fields
            .word("speed", &["normal", "instant"])?
            .unwrap_or("normal");
        let configuration = fields.need_text("payment_config_id", 60)?;
        let amount = fields.need_object("amount", &["currency", "value", "offset"])?;
        amount.need_word("currency", &["INR"])?;
        amount.need_word("offset", &["100"])?;
        let value = amount
            .need_text("value", 18)?
            .parse::<i64>()
            .ok()
            .filter(|value| *value > 0)
            .ok_or_else(|| {
                Refusal::new(
                    131_009,
                    "amount.value must be a positive integer as a string",
                )
            })?;
        let key = (account.waba_id.clone(), reference.to_owned());
        let refund = self
            .phones
            .refund(
                "meta",
                &key,
                configuration,
                value,
                (speed, account.refunds),
                desk,
            )
            .map_err(|why| {
                Refusal::new(
                    131_009,
                    match why {
                        NoRefund::Unknown => {
                            "no payment with this reference_id and payment_config_id"
                        }
                        NoRefund::TooMuch => "amount is more than what is left of the payment",
                    },
                )
            })?;
        let shown =
            json!({"id": refund.id, "status": refund.status, "speed_processed": refund.speed});
        self.emit_payment(&key, desk);
        Ok(Answer::json(200, &shown).about(reference))
    }
}

/// What a customer wrote, or tapped: a template's quick reply or a reply button.
fn written(request: &Value) -> Value {
    if let Some(text) = wanted(request, "button") {
        return json!({"type": "button", "button": {"payload": text, "text": text}});
    }
    if let Some(title) = wanted(request, "reply_button") {
        return json!({
            "type": "interactive",
            "interactive": {"type": "button_reply", "button_reply": {"id": "reply-1", "title": title}},
        });
    }
    json!({"type": "text", "text": {"body": wanted(request, "text").unwrap_or("Hi")}})
}

/// A status names its recipient by number, or by user id where the number is not shown.
fn name_recipient(status: &mut Value, phone: &str, nameless: &BTreeSet<String>) {
    if let Some(status) = status.as_object_mut() {
        if nameless.contains(phone) {
            status.insert("recipient_user_id".to_owned(), user_id(phone).into());
        } else {
            status.insert("recipient_id".to_owned(), phone.into());
        }
    }
}

/// The files a message names by id, each with its kind.
fn named_files<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if ["image", "video", "document"].contains(&key.as_str())
                    && let Some(id) = inner.get("id").and_then(Value::as_str)
                {
                    found.push((key, id));
                }
                named_files(inner, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                named_files(item, found);
            }
        }
        _ => {}
    }
}

/// "Supported media types": at most 5 MB, 8-bit, RGB or RGBA. A PNG says so in its first chunk.
fn check_image(kind: &str, content: &[u8]) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::new(131_053, why.to_owned()));
    if content.len() > LARGEST_IMAGE {
        return refuse("the image is larger than 5 MB");
    }
    if kind == "image/jpeg" {
        return if content.starts_with(&[0xff, 0xd8, 0xff]) {
            Ok(())
        } else {
            refuse("the file is not a JPEG")
        };
    }
    let Some(header) = content.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR") else {
        return refuse("the file is not a PNG");
    };
    match (header.get(8), header.get(9)) {
        (Some(8), Some(2 | 6)) => Ok(()),
        _ => refuse("the image is not 8-bit RGB or RGBA"),
    }
}

/// Refunds in webhooks and look-ups: `success` there is `completed` in the refund call.
fn show_refunds(refunds: &[Refund]) -> Value {
    refunds
        .iter()
        .map(|refund| {
            json!({
                "id": refund.id,
                "amount": {"value": refund.amount, "offset": 100},
                "speed_processed": refund.speed,
                "status": if refund.status == "completed" { "success" } else { refund.status },
                "created_timestamp": refund.at,
                "updated_timestamp": refund.at,
            })
        })
        .collect()
}

fn emit(account: &Account, event: &str, what: Value, reference: Option<&str>, desk: &mut Desk) {
    let mut value = json!({
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": account.display_phone_number,
            "phone_number_id": account.phone_number_id,
        },
    });
    if let (Value::Object(what), Some(map)) = (what, value.as_object_mut()) {
        map.extend(what);
    }
    let field = match event {
        "user_preferences" => "user_preferences",
        _ => "messages",
    };
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": account.waba_id, "changes": [{"value": value, "field": field}]}],
    });
    if let Some(draft) = draft(account, event, ascii_json(&body), reference) {
        desk.send(draft);
    }
}

/// An error inside a webhook: title and message instead of the answer's `message` and `type`.
fn hook_error(code: i64, details: &str) -> Value {
    let (_, message) = described(code);
    json!({
        "code": code,
        "title": message,
        "message": message,
        "error_data": {"details": details},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    })
}

/// The error a fault plans: its code is enough.
fn planned_error(planned: Value) -> Value {
    let code = planned
        .get("code")
        .and_then(Value::as_i64)
        .unwrap_or(131_000);
    let mut error = hook_error(code, "Planned by the sandbox's control API.");
    if let (Some(error), Value::Object(planned)) = (error.as_object_mut(), planned) {
        error.extend(planned);
    }
    error
}
