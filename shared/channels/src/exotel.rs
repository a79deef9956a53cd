//! Exotel: WhatsApp and SMS.
//!
//! Documents: developer.exotel.com, "Send Whatsapp Messages API", "Receive messages" and "SMS APIs"; "WhatsApp Payment Messages",
//! "Receive Messages (Webhooks)" and "WhatsApp Status Codes" of the newer portal; "Contactless Billing / Invoicing" (2022). Where the
//! newer portal and the older pages differ, the older ones are followed (`docs/providers.md`).
//!
//! What shapes this file:
//! - An accepted request can hold a message that was not: the code inside decides, not the HTTP status.
//! - One account sends both: WhatsApp, and SMS for an SMS tenant or when WhatsApp has definitely failed. What a failure calls for
//!   decides about the second message, so nothing counts as failed that may have arrived.
//! - Callbacks are not reliably signed. A secret in the address they come to keeps strangers out, and no payment is believed from here.
//! - Exotel documents no way to ask about a payment, so the gateway's own webhook has to tell, and a bill paid inside WhatsApp names
//!   and proves itself in Razorpay's notes.
//! - Whether order templates can be sent through Exotel is documented nowhere, so a tenant that names some is refused rather than
//!   surprised.
//! - There is no idempotency key. An answer that was lost is "unknown", and reports find their order by `custom_data` (`CustomField`
//!   for SMS).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chatbill_domain::connector::{Channel, SendStep, Signal, Trust, Webhooks};
use chatbill_domain::consent::ConsentWords;
use chatbill_domain::contact::quotable;
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Method, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::lenient;
use chatbill_domain::message::{
    Content, Form, Fulfilment, Outgoing, Remedy, Report, SendFailure, Tag,
};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Found, PROOF_NOTE, PaymentMode, PaymentReport, REFERENCE_NOTE, RefundReport,
    RefundRequest,
};
use chatbill_domain::proof::BillProofs;
use chatbill_domain::signature;
use chatbill_domain::sms::Encoding;
use chatbill_domain::tenant::{self, ChannelKind, QrHeader, Tenant};
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::bsp::{self, REST, Sms};
use crate::wire::{FORM, callback, failure, form, is, is_plain, list, text, whole, wish};
use crate::{meta, native, template};

/// "Send Whatsapp Messages API": the Singapore cluster; Mumbai is `https://api.in.exotel.com`.
const BASE_URL: &str = "https://api.exotel.com";
/// "WhatsApp Payment Messages" names razorpay, payu and zaakpay. Exotel cannot be asked about a payment, and only Razorpay's notes carry the
/// proof that lets its own signed webhook close the bill: with the others a paid bill would stay open for ever.
const GATEWAYS: &[&str] = &["razorpay"];
/// Our rule: what is sent back is short and has no blanks.
const LONGEST_CHALLENGE: usize = 128;
/// Meta, "Payment gateway integrations", razorpay object: at most 15 notes.
const MOST_NOTES: usize = 15;

/// "WhatsApp Status Codes", error statuses: what each calls for. The texts decide, because an earlier edition of the page gave the
/// numbers other meanings.
const STATUSES: &[(&str, Remedy)] = &[
    ("EX_SYSTEM_ERROR", Remedy::Retry), // Authentication, permission or service unavailability.
    ("EX_NUMBER_ERROR", Remedy::GiveUp), // Issue with the recipient's number.
    ("EX_SETUP_ERROR", Remedy::Alert),
    ("EX_RATE_LIMIT_HIT", Remedy::Throttled(REST)),
    ("EX_SPAM_RATE_LIMIT_HIT", Remedy::GiveUp), // Lasts hours.
    ("EX_TOO_MANY_REQUEST", Remedy::Throttled(REST)),
    ("EX_INVALID_REQUEST", Remedy::GiveUp),
    ("EX_UNKNOWN_ERROR", Remedy::RetryOnce),
    ("EX_INVALID_RECIPIENT", Remedy::GiveUp),
    ("EX_INCAPABLE_RECIPIENT", Remedy::GiveUp),
    ("EX_RECIPIENT_BLOCKED", Remedy::GiveUp),
    ("EX_UNSUPPORTED_MESSAGE", Remedy::GiveUp),
    ("EX_MEDIA_DOWNLOAD_ERROR", Remedy::Media), // The link could not be fetched, perhaps only now.
    ("EX_MEDIA_UPLOAD_ERROR", Remedy::Media),   // Unsupported media type.
    ("EX_REENGAGEMENT_ERROR", Remedy::UseTemplate), // The 24-hour window has closed.
    ("EX_INVALID_PARAM", Remedy::GiveUp),
    ("EX_MISSING_PARAM", Remedy::GiveUp),
    ("EX_INVALID_PARAM_VALUE", Remedy::GiveUp),
    ("EX_TEMPLATE_ERROR", Remedy::Alert),
    ("EX_TEMPLATE_PARAM_ERROR", Remedy::Alert),
    ("EX_TEMPLATE_NOT_FOUND", Remedy::Alert),
    ("EX_TEMPLATE_TEXT_TOO_LONG", Remedy::GiveUp),
    ("EX_INVALID_TEMPLATE_NAMESPACE", Remedy::Alert),
    ("EX_MESSAGE_PENDING_TOO_LONG", Remedy::GiveUp),
    ("EX_MESSAGE_EXPIRED", Remedy::GiveUp),
    ("EX_MESSAGE_TOO_LONG", Remedy::GiveUp),
    ("EX_WEBHOOK_ERROR", Remedy::Alert), // The webhook is not configured.
    ("EX_CATALOGUE_NOT_FOUND", Remedy::GiveUp),
    ("EX_CATALOGUE_NOT_LINKED", Remedy::Alert),
    ("EX_MISSING_PRODUCT", Remedy::GiveUp),
    ("EX_PRODUCT_NOT_FOUND", Remedy::GiveUp),
    ("EX_PRODUCT_COMPLIANCE_ERROR", Remedy::GiveUp),
    ("EX_INVALID_HEADER", Remedy::GiveUp),
    ("EX_MISSING_COMPLIANCE", Remedy::GiveUp),
    ("EX_CHAR_POLICY_VIOLATION", Remedy::GiveUp),
];

/// "SMS APIs", detailed status codes and HTTP error codes: what each calls for.
const SMS_CODES: &[(i64, Remedy)] = &[
    // By callback.
    (23_005, Remedy::GiveUp), // On the do-not-disturb register.
    (23_010, Remedy::GiveUp), // No such number.
    (23_020, Remedy::GiveUp), // Opted out.
    (23_035, Remedy::Retry),  // Unreachable for now.
    (23_050, Remedy::GiveUp), // Expired.
    (23_070, Remedy::Alert),  // Invalid, for example without an entity id.
    (23_072, Remedy::Alert),  // Header not registered with DLT.
    (23_080, Remedy::Alert),  // Header.
    (23_081, Remedy::Alert),  // Entity.
    (23_082, Remedy::Alert),  // Template.
    (23_083, Remedy::Alert),  // Scrubbing.
    (23_084, Remedy::Alert),  // Consent template.
    (23_181, Remedy::Alert),  // Template details, to 23186.
    (23_182, Remedy::Alert),
    (23_183, Remedy::Alert),
    (23_184, Remedy::Alert),
    (23_185, Remedy::Alert),
    (23_186, Remedy::Alert),
    (23_281, Remedy::Alert), // Entity details.
    (24_010, Remedy::Retry), // System.
    (24_110, Remedy::Retry), // Operator.
    // In the answer.
    (34_009, Remedy::Alert),           // Not allowed.
    (34_010, Remedy::Alert),           // Not authenticated.
    (40_001, Remedy::Alert),           // Balance.
    (40_002, Remedy::Alert),           // Account inactive.
    (40_200, Remedy::GiveUp),          // Body.
    (40_203, Remedy::GiveUp),          // Numbers.
    (40_204, Remedy::Alert),           // SmsType.
    (40_205, Remedy::Alert),           // From.
    (40_206, Remedy::Alert),           // From does not go with SmsType.
    (40_209, Remedy::GiveUp),          // EncodingType.
    (40_210, Remedy::Alert),           // From.
    (40_402, Remedy::Throttled(REST)), // Too many requests.
    (40_403, Remedy::Throttled(REST)),
    (40_405, Remedy::Throttled(REST)), // Throttled.
];

/// "WhatsApp Status Codes": the numbers that mean a failure in every edition of the page. 30049 and 30050 are payments in one.
const FAILED: std::ops::RangeInclusive<i64> = 30_004..=30_041;

struct Exotel {
    base: String,
    account_sid: String,
    authorization: SecretString,
    callback_token: [SecretString; 1],
    tenant: String,
    whatsapp: Option<WhatsApp>,
    sms: Option<Entity>,
    proofs: BillProofs,
    consent_words: ConsentWords,
}

struct WhatsApp {
    from: String,
    /// `order_details` as "WhatsApp Payment Messages" prints it, directly in the content.
    flat: bool,
}

struct Entity {
    id: String,
    sms: Sms,
}

pub(crate) fn open(tenant: &Tenant) -> Result<Box<dyn Channel>, Vec<Fault>> {
    let channel = &tenant.channel;
    let account = &channel.account;
    let by_whatsapp = channel.kind == ChannelKind::WhatsApp;
    let mut faults = template::undocumented(channel, "Exotel");
    let gateway = tenant.payment.account.vendor.as_str();
    let native = tenant.payment.mode == PaymentMode::PaymentGateway;
    if by_whatsapp && native && !GATEWAYS.contains(&gateway) {
        faults.push(Fault::new(
            "/payment/gateway",
            "impossible",
            format!(
                "inside WhatsApp through Exotel, only payments at {} can be found out about",
                GATEWAYS.join(", ")
            ),
        ));
    }
    match channel.qr_header {
        None => {}
        Some(_) if !by_whatsapp => faults.push(bsp::no_qr("an SMS has no header")),
        Some(QrHeader::Upload) => faults.push(bsp::no_qr(
            "Exotel documents no upload of pictures for order messages; use link",
        )),
        Some(QrHeader::Link) => {}
    }
    let read = account.credentials.read("/channel/credentials", |f| {
        let account_sid = f.required_text("account_sid", 80);
        if account_sid.as_deref().is_some_and(|sid| !is_plain(sid)) {
            f.fault("account_sid", "invalid", "must be letters and digits");
        }
        let key = tenant::secret(f, "api_key");
        let token = tenant::secret(f, "api_token");
        // A colon would end the user name of the Basic scheme early (RFC 7617).
        if key
            .as_ref()
            .is_some_and(|k| k.expose_secret().contains(':'))
        {
            f.fault("api_key", "invalid", "must not contain a colon");
        }
        let callback_token = bsp::read_callback_token(f);
        let flat = match f.value("order_details_form") {
            None => Some(false),
            Some(_) => f.parsed("order_details_form", |form| match form.as_str() {
                "nested" => Ok(false),
                "flat" => Ok(true),
                _ => Err("nested or flat"),
            }),
        };
        if flat == Some(true) && channel.qr_header == Some(QrHeader::Link) {
            f.fault(
                "order_details_form",
                "impossible",
                "the flat form is documented with a text as header; with qr_header it must be nested",
            );
        }
        if bsp::sends_sms(channel) {
            f.required("dlt_entity_id");
        }
        let entity_id = f.text("dlt_entity_id", 40);
        let sms = match bsp::read_sms(f, channel)? {
            Some(sms) => Some(Entity {
                id: entity_id?,
                sms,
            }),
            None => None,
        };
        let from = channel.from.clone();
        let flat = flat?;
        let pair = format!("{}:{}", key?.expose_secret(), token?.expose_secret());
        Some(Exotel {
            base: account
                .base_url
                .clone()
                .unwrap_or_else(|| BASE_URL.to_owned()),
            account_sid: account_sid?,
            authorization: SecretString::from(format!("Basic {}", STANDARD.encode(pair))),
            callback_token: [callback_token?],
            tenant: tenant.id.to_string(),
            whatsapp: by_whatsapp.then_some(WhatsApp { from, flat }),
            sms,
            proofs: tenant.payment.proofs.clone(),
            consent_words: tenant.consent_words.clone(),
        })
    });
    match read {
        Ok(exotel) if faults.is_empty() => Ok(Box::new(exotel)),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

impl Channel for Exotel {
    fn send(&self, message: &Outgoing<'_>, answers: &[Answer]) -> SendStep {
        let step = match message.form {
            Form::Sms => self.by_sms(message, answers.first()),
            Form::Interactive | Form::Template => self.by_whatsapp(message, answers.first()),
        };
        step.unwrap_or_else(SendStep::Failed)
    }

    /// "WhatsApp Payment Messages" and the older pages name no endpoint for this.
    fn lookup_payment(&self, _reference: &ReferenceId, _answers: &[Answer]) -> Step<Found> {
        Step::failed(CallError::Unsupported(
            "Exotel documents no way to ask about a payment",
        ))
    }

    /// The newer portal speaks of about 200 requests a minute in one place and of other figures in others, so what a sender may do
    /// is learnt from what Exotel answers.
    fn rate(&self) -> Option<u32> {
        None
    }

    fn gives_back(&self) -> bool {
        false
    }

    fn check_refund(&self, _request: &RefundRequest) -> Vec<Fault> {
        vec![Fault::new("", "impossible", NO_REFUND)]
    }

    fn refund(&self, _request: &RefundRequest, _answers: &[Answer]) -> Step<RefundReport> {
        Step::failed(CallError::Unsupported(NO_REFUND))
    }

    fn lookup_refund(
        &self,
        _request: &RefundRequest,
        _answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        Step::failed(CallError::Unsupported(NO_REFUND))
    }

    fn check_account(&self, _answers: &[Answer]) -> Step<Vec<Fault>> {
        Step::failed(CallError::Unsupported(
            "Exotel documents no way to ask about an account's payment configurations or templates",
        ))
    }
}

/// "WhatsApp Payment Messages" and its later revisions: refunds go through the gateway.
const NO_REFUND: &str =
    "Exotel documents no refunds; money paid inside WhatsApp goes back through the gateway";

impl Exotel {
    fn report_to(&self, out: &Outgoing<'_>) -> String {
        let [token] = &self.callback_token;
        callback(out, "exotel", &self.tenant, token)
    }

    fn by_whatsapp(
        &self,
        message: &Outgoing<'_>,
        answer: Option<&Answer>,
    ) -> Result<SendStep, SendFailure> {
        let whatsapp = self
            .whatsapp
            .as_ref()
            .ok_or_else(|| bsp::not_offered(message.form))?;
        match answer {
            None => self
                .whatsapp(message, whatsapp)
                .map(|call| SendStep::Call(Box::new(call))),
            Some(answer) => {
                answered(answer, whatsapp_sent).map(|id| SendStep::Sent { id, segments: None })
            }
        }
    }

    fn by_sms(
        &self,
        message: &Outgoing<'_>,
        answer: Option<&Answer>,
    ) -> Result<SendStep, SendFailure> {
        let entity = self
            .sms
            .as_ref()
            .ok_or_else(|| bsp::not_offered(message.form))?;
        match answer {
            None => self
                .sms(message, entity)
                .map(|call| SendStep::Call(Box::new(call))),
            Some(answer) => {
                let id = answered(answer, sms_sent)?;
                let segments = entity.sms.templates.compose(message)?.segments;
                Ok(SendStep::Sent {
                    id,
                    segments: Some(segments),
                })
            }
        }
    }

    /// "Send Whatsapp Messages API" with one message.
    fn whatsapp(&self, out: &Outgoing<'_>, whatsapp: &WhatsApp) -> Result<HttpCall, SendFailure> {
        let nested = |interactive| json!({"type": "interactive", "interactive": interactive});
        let content = match &out.content {
            Content::Invoice { payment } => {
                let mut invoice = template::invoice(out, payment);
                self.name_the_bill(&mut invoice, out);
                if whatsapp.flat {
                    invoice
                } else {
                    nested(invoice)
                }
            }
            Content::Status {
                status: Fulfilment::Pending,
                ..
            } => {
                return Err(failure(
                    Remedy::GiveUp,
                    "status_pending",
                    "pending cannot be sent as an order status",
                ));
            }
            Content::Status {
                status,
                description,
                text,
            } => nested(template::status(out, *status, *description, text)),
            Content::Receipt { text } | Content::Failed { text } | Content::Refund { text, .. } => {
                json!({
                    "type": "text", "text": {"body": template::with_link(text, out.receipt_url)},
                })
            }
        };
        Ok(HttpCall::post_json(
            "exotel.send_whatsapp",
            format!("{}/v2/accounts/{}/messages", self.base, self.account_sid),
            self.authorization.clone(),
            &json!({
                "custom_data": out.tag.to_string(),
                "status_callback": self.report_to(out),
                "whatsapp": {"messages": [{"from": whatsapp.from, "to": out.to.e164(), "content": content}]},
            }),
        ))
    }

    /// "SMS APIs", send. With `.json`, because without it the answer is XML.
    fn sms(&self, out: &Outgoing<'_>, entity: &Entity) -> Result<HttpCall, SendFailure> {
        let sms = entity.sms.templates.compose(out)?;
        let body = form(&[
            ("From", &entity.sms.sender),
            ("To", out.to.e164()),
            ("Body", &sms.text),
            ("DltEntityId", &entity.id),
            ("DltTemplateId", sms.template_id),
            ("SmsType", "transactional"),
            (
                "EncodingType",
                match sms.encoding {
                    Encoding::Gsm7 => "plain",
                    Encoding::Ucs2 => "unicode",
                },
            ),
            ("StatusCallback", &self.report_to(out)),
            ("CustomField", &out.tag.to_string()),
        ]);
        Ok(HttpCall {
            method: Method::Post,
            body: Some((FORM.to_owned(), body.into_bytes())),
            ..HttpCall::get(
                "exotel.send_sms",
                format!(
                    "{}/v1/Accounts/{}/Sms/send.json",
                    self.base, self.account_sid
                ),
                self.authorization.clone(),
            )
        })
    }

    /// "WhatsApp Pay", razorpay object: its notes become the notes of the order made at Razorpay. With no way to ask about a payment,
    /// Razorpay's own signed webhook has to name the bill, and to prove that the name is ours. A merchant who fills the notes itself
    /// leaves no room, and then such a bill is never closed by its webhook.
    fn name_the_bill(&self, invoice: &mut Value, out: &Outgoing<'_>) {
        let gateway = invoice
            .pointer_mut("/action/parameters/payment_settings/0/payment_gateway")
            .filter(|gateway| is(gateway, "type", "razorpay"));
        let notes = gateway.and_then(Value::as_object_mut).and_then(|gateway| {
            let razorpay = gateway.entry("razorpay").or_insert_with(|| json!({}));
            let notes = razorpay.as_object_mut()?.entry("notes");
            notes.or_insert_with(|| json!({})).as_object_mut()
        });
        let Some(notes) = notes else { return };
        let reference = &out.tag.reference;
        let ours = [
            (REFERENCE_NOTE, Some(reference.to_string())),
            (PROOF_NOTE, self.proofs.issue(reference, out.bill.total)),
        ];
        for (name, value) in ours {
            if let Some(value) = value
                && (notes.len() < MOST_NOTES || notes.contains_key(name))
            {
                notes.insert(name.to_owned(), value.into());
            }
        }
    }
}

fn answered(
    answer: &Answer,
    read: fn(&HttpReply, &Value) -> Result<String, SendFailure>,
) -> Result<String, SendFailure> {
    let reply = match answer {
        Answer::NotSent(reason) => return Err(failure(Remedy::Retry, "not_sent", reason)),
        Answer::Lost(reason) => return Err(failure(Remedy::Unknown, "lost", reason)),
        Answer::Reply(reply) => reply,
    };
    let document = reply.json().unwrap_or(Value::Null);
    if reply.ok() {
        read(reply, &document)
    } else {
        Err(refused(reply.status, reply.retry_after, &document))
    }
}

/// The two documented answers: 202 with a list that has a code for each message, and 200 with `response.data`.
fn whatsapp_sent(reply: &HttpReply, document: &Value) -> Result<String, SendFailure> {
    let message = document
        .pointer("/response/whatsapp/messages/0")
        .or_else(|| document.get("response").filter(|r| r.get("code").is_some()));
    let status = message.unwrap_or(document);
    let code = ["code", "http_code"]
        .iter()
        .find_map(|name| whole(status.get(*name)?));
    if is(status, "status", "failure") || code.is_some_and(|code| !(200..300).contains(&code)) {
        let code = code.and_then(|code| u16::try_from(code).ok());
        return Err(refused(
            code.filter(|code| *code >= 300).unwrap_or(400),
            reply.retry_after,
            message.unwrap_or(document),
        ));
    }
    let data = message.and_then(|m| m.get("data"));
    data.and_then(|data| text(data, "sid").or_else(|| text(data, "message_id")))
        .ok_or_else(|| unreadable("accepted, but without a message id"))
}

/// "SMS APIs", send: 200 says queued.
fn sms_sent(_reply: &HttpReply, document: &Value) -> Result<String, SendFailure> {
    let sms = document.get("SMSMessage").unwrap_or(&Value::Null);
    let status = text(sms, "Status").unwrap_or_default();
    if let Ok(Some(Report::Failed(failure))) = sms_told("", &status, sms).report() {
        return Err(failure);
    }
    text(sms, "Sid").ok_or_else(|| unreadable("accepted, but without an SMS id"))
}

fn unreadable(why: &str) -> SendFailure {
    failure(Remedy::Unknown, "unreadable", why)
}

/// What a refusal calls for: a text or code of Exotel's where there is one, else the HTTP status ("WhatsApp Status Codes", HTTP
/// status codes; "WhatsApp Payment Messages", the same).
fn refused(status: u16, retry_after: Option<u32>, document: &Value) -> SendFailure {
    let places = [
        "/error_data",
        "/response/whatsapp/messages/0/error_data",
        "/response/error_data",
        "/RestException",
        "/response",
        "",
    ];
    let errors: Vec<&Value> = places
        .iter()
        .filter_map(|place| document.pointer(place))
        .filter(|error| error.is_object())
        .collect();
    let named = errors.iter().find_map(|error| {
        let texts = error.as_object()?.values().filter_map(Value::as_str);
        texts.filter_map(known_status).next()
    });
    let coded = errors.iter().find_map(|error| {
        let code = ["Code", "code"].iter().find_map(|n| whole(error.get(*n)?));
        code.and_then(|code| sms_remedy(code).map(|remedy| (code, remedy)))
    });
    let words = errors.iter().find_map(|error| {
        ["description", "message", "Message", "reason"]
            .iter()
            .find_map(|name| text(error, name))
    });
    let (code, remedy) = match (named, coded) {
        (Some((name, remedy)), _) => (name.to_owned(), remedy),
        (None, Some((code, remedy))) => (code.to_string(), remedy),
        (None, None) => {
            // A server error in Exotel's own words may be repeated, it says; one of something in front of it is in doubt.
            let own = errors.iter().any(|e| {
                ["http_code", "request_id", "code", "Code", "Status"]
                    .iter()
                    .any(|name| e.get(*name).is_some())
            });
            let remedy = match status {
                429 => Remedy::Throttled(REST),
                503 => Remedy::Retry,
                300..=399 | 401..=404 => Remedy::Alert,
                408 => Remedy::Unknown,
                400..=499 => Remedy::GiveUp,
                _ if own => Remedy::Retry,
                _ => Remedy::Unknown,
            };
            (format!("http_{status}"), remedy)
        }
    };
    SendFailure {
        remedy: bsp::heed(remedy, retry_after),
        code,
        detail: quotable(&words.unwrap_or_default()),
    }
}

fn known_status(text: &str) -> Option<(&'static str, Remedy)> {
    STATUSES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .copied()
}

fn sms_remedy(code: i64) -> Option<Remedy> {
    SMS_CODES
        .iter()
        .find(|(known, _)| *known == code)
        .map(|(_, remedy)| *remedy)
}

impl Webhooks for Exotel {
    fn name(&self) -> &'static str {
        "exotel"
    }

    /// The newer portal speaks of a signature without saying whose secret it is made with, and neither the older pages nor what
    /// arrives in practice has one. So the secret is in the address we gave Exotel.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
        let presented = raw.query("token").ok_or(Refused::Missing)?;
        let proof =
            signature::same_secret(&self.callback_token, presented).ok_or(Refused::Mismatch)?;
        Ok(VerifiedWebhook::new(raw, proof))
    }

    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
        let object = |body: &[u8]| lenient::parse(body).ok();
        bsp::each(&bsp::documents(webhook, object)?, |hook| {
            document_signals(hook, &self.consent_words)
        })
    }

    /// Exotel looks at the status only.
    fn acknowledgement(&self) -> &'static str {
        "ok"
    }

    /// "WhatsApp Webhooks" of the newer portal, "Verify Your Endpoint": a body of its own, to the address with our secret.
    fn challenge(&self, raw: &RawWebhook) -> Option<String> {
        let _proof = signature::same_secret(&self.callback_token, raw.query("token")?)?;
        let asked = lenient::parse(&raw.body).ok()?;
        let challenge = text(&asked, "challenge").filter(|_| is(&asked, "type", "verification"))?;
        let is_plain = (1..=LONGEST_CHALLENGE).contains(&challenge.len())
            && challenge.bytes().all(|b| b.is_ascii_graphic());
        is_plain.then_some(challenge)
    }
}

/// One document in whichever of Exotel's shapes.
fn document_signals(hook: &Value, words: &ConsentWords) -> Result<Vec<Signal>, Unreadable> {
    if hook.get("SmsSid").is_some() {
        return Ok(vec![sms_signal(hook)]);
    }
    let mut signals: Vec<Signal> = hook
        .get("whatsapp")
        .map_or(&[][..], |whatsapp| list(whatsapp, "messages"))
        .iter()
        .map(|message| whatsapp_signal(message, words))
        .collect();
    signals.extend(payment_signals(hook));
    signals.extend(portal_signal(hook, words));
    if signals.is_empty() {
        let has = |name: &str| hook.get(name).is_some();
        if !has("whatsapp") && !has("event") && !has("type") {
            return Err(Unreadable("none of Exotel's shapes".to_owned()));
        }
        signals.push(Signal::Ignored("nothing in it".to_owned()));
    }
    Ok(signals)
}

/// A delivery report of WhatsApp (`dlr`), or a message from a customer (`icm` in the documents, `incoming_message` in traffic).
fn whatsapp_signal(message: &Value, words: &ConsentWords) -> Signal {
    let kind = text(message, "callback_type").unwrap_or_default();
    match kind.as_str() {
        "dlr" => {}
        // "Receive messages". Replies come to the address of the message they answer, all others to the account's.
        "icm" | "incoming_message" => {
            return bsp::inbound(
                text(message, "from").as_deref(),
                bsp::time(message, "timestamp"),
                message.get("content").and_then(|said| wish(said, words)),
            );
        }
        other => {
            return Signal::Ignored(format!("a callback of type {}", quotable(other)));
        }
    }
    let id = text(message, "sid").or_else(|| text(message, "message_sid"));
    let named = text(message, "exo_detailed_status");
    let number = message.get("exo_status_code").and_then(whole);
    // The texts decide; a number alone is believed only where its meaning never changed.
    let status = match (named.as_deref(), number) {
        (Some(named), _) => named,
        (None, Some(30_001)) => "sent",
        (None, Some(30_002)) => "delivered",
        (None, Some(30_003)) => "read",
        (None, Some(_)) => "",
        (None, None) => {
            return Signal::Ignored(format!(
                "a report of {} without a status",
                quotable(&id.unwrap_or_default())
            ));
        }
    };
    bsp::Told {
        id: &id.unwrap_or_default(),
        status,
        code: number.map(|number| number.to_string()),
        known: known_status(status)
            .map(|(name, remedy)| (name.to_owned(), remedy))
            .or_else(|| {
                // It did not arrive; the numbers alone do not say why.
                let number = number.filter(|number| FAILED.contains(number))?;
                let name = named.clone().unwrap_or_else(|| number.to_string());
                Some((name, Remedy::GiveUp))
            }),
        detail: text(message, "description").unwrap_or_default(),
    }
    .about(text(message, "custom_data").and_then(|tag| Tag::parse(&tag)))
}

/// The newer portal's shapes of the same. "Receive Messages (Webhooks)": an `event` and a `message`; "WhatsApp Webhooks": a `type` and
/// `data`. The statuses there are WhatsApp's words with Meta's codes, and no sample has the `custom_data` that would name the message.
fn portal_signal(hook: &Value, words: &ConsentWords) -> Option<Signal> {
    let nothing = Value::Null;
    let (kind, told) = match (text(hook, "event"), text(hook, "type")) {
        (Some(kind), _) => (kind, hook.get("message").unwrap_or(&nothing)),
        (None, Some(kind)) => (kind, hook.get("data").unwrap_or(&nothing)),
        (None, None) => return None,
    };
    let time = bsp::time(told, "timestamp").or_else(|| bsp::time(hook, "timestamp"));
    match kind.as_str() {
        "incoming_message" | "inbound_message" => Some(bsp::inbound(
            text(told, "from").as_deref(),
            time,
            wish(told.get("message").unwrap_or(told), words),
        )),
        "message_status" => {
            let error = list(told, "errors").first();
            let number = error.and_then(|error| whole(error.get("code")?));
            let tag = text(told, "custom_data").or_else(|| text(hook, "custom_data"));
            let id = text(told, "message_sid").or_else(|| text(told, "id"));
            let told = bsp::Told {
                id: &id.unwrap_or_default(),
                status: &text(told, "status").unwrap_or_default(),
                code: number.map(|number| number.to_string()),
                known: number.and_then(|n| Some((n.to_string(), meta::remedy(n)?))),
                detail: error
                    .and_then(|error| text(error, "detail").or_else(|| text(error, "title")))
                    .unwrap_or_default(),
            };
            Some(told.about(tag.and_then(|tag| Tag::parse(&tag))))
        }
        _ => None,
    }
}

/// "SMS APIs", status callback.
fn sms_signal(sms: &Value) -> Signal {
    let id = text(sms, "SmsSid").unwrap_or_default();
    let status = text(sms, "Status").unwrap_or_default();
    sms_told(&id, &status, sms).about(text(sms, "CustomField").and_then(|tag| Tag::parse(&tag)))
}

/// What `Status` and `DetailedStatusCode` say. `sent` with 20005 is on the phone, with 20006 at the operator. The newer pages name the
/// end itself, `delivered`, `undelivered`, `expired`, and have other numbers for it, so of the 20000s only this one is read.
fn sms_told<'a>(id: &'a str, status: &'a str, sms: &Value) -> bsp::Told<'a> {
    let number = sms.get("DetailedStatusCode").and_then(whole);
    let on_the_phone = status.eq_ignore_ascii_case("sent") && number == Some(20_005);
    bsp::Told {
        id,
        status: if on_the_phone { "delivered" } else { status },
        code: number.map(|number| number.to_string()),
        known: number
            .and_then(|number| Some((number.to_string(), sms_remedy(number)?)))
            .or_else(|| known_status(status).map(|(name, remedy)| (name.to_owned(), remedy))),
        detail: text(sms, "DetailedStatus").unwrap_or_default(),
    }
}

/// A payment in one of the three shapes that are documented or expected by integrations; nobody has shown a real one. None is
/// believed: whoever holds the money is asked, and what is said here only tells when.
fn payment_signals(hook: &Value) -> Vec<Signal> {
    let named = |name: &str| is(hook, name, "payment_status");
    if named("event") {
        // "WhatsApp Payment Messages", payment status webhook.
        return vec![payment_signal(hook, "payment_status", "transaction_id")];
    }
    if let Some(data) = hook.get("data").filter(|_| named("type")) {
        // The support page of the newer portal.
        return vec![payment_signal(data, "status", "payment_id")];
    }
    // Meta's own shape without its envelope.
    let statuses = list(hook, "statuses").iter();
    statuses
        .filter_map(|status| Some((status, status.get("payment")?)))
        .map(|(status, payment)| match text(status, "status") {
            Some(word)
                if !payment
                    .as_object()
                    .is_some_and(|p| p.contains_key("status")) =>
            {
                let mut payment = payment.clone();
                if let Some(fields) = payment.as_object_mut() {
                    fields.insert("status".to_owned(), word.into());
                }
                payment_signal(&payment, "status", "id")
            }
            _ => payment_signal(payment, "status", "id"),
        })
        .collect()
}

fn payment_signal(payment: &Value, status: &str, id: &str) -> Signal {
    let Some(reference) = text(payment, "reference_id").and_then(|r| ReferenceId::parse(r).ok())
    else {
        return Signal::Ignored("a payment that names no bill of ours".to_owned());
    };
    let word = text(payment, status)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let status = match word.as_str() {
        // "Payment request sent, awaiting customer action": nobody has anything to tell yet.
        "pending" => return Signal::Ignored(format!("{reference} awaits its payment")),
        "captured" => AttemptStatus::Captured,
        "failed" | "canceled" | "cancelled" | "voided" | "expired" => AttemptStatus::Failed,
        _ => AttemptStatus::Pending,
    };
    let amount = payment.get("amount").unwrap_or(&Value::Null);
    let report = PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status,
        payment_id: text(payment, id).unwrap_or_else(|| reference.to_string()),
        amount: native::paise(amount).unwrap_or(Paise::ZERO),
        currency: text(amount, "currency").unwrap_or_else(|| "INR".to_owned()),
        method: None,
        error: None,
        at: None,
    };
    Signal::Payment {
        reference,
        report,
        trust: Trust::Hint,
    }
}
