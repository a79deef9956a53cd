//! Meta's WhatsApp Cloud API.
//!
//! Documents: Meta, "Payments API – India" (see `template.rs`), its "Onboarding APIs", "Messages", "Media", "Webhooks, messages",
//! "Webhooks, payment status", "Business-scoped user IDs" and "Cloud API error codes" (2026).
//!
//! What shapes this file:
//! - A 200 says "accepted". Whether the message arrived, and often that it could not, comes later by webhook and finds its order by
//!   `biz_opaque_callback_data`.
//! - There is no idempotency key for messages. An answer that was lost, or a server error that names no reason, is "unknown".
//! - What an error calls for is decided by its numeric code alone; HTTP statuses differ between accounts and texts change.
//! - Meta says itself that a payment webhook is to be confirmed by lookup, so payments and refunds here are hints.
//! - Refunds have no idempotency key either, and name no refund of ours. So every refund is looked for before it is asked for, and
//!   is told from others of the same payment by what is refunded in all.
//! - A customer who has a username may come without a phone number. Whose business-scoped id it is, the reports of our own messages
//!   tell, which name both.
//! - One app has one address for all its numbers unless a number or account overrides it, so reports carry their tenant's name.

use chatbill_domain::connector::{Channel, Notice, SendStep, Signal, Trust, Webhooks};
use chatbill_domain::consent::ConsentWords;
use chatbill_domain::contact::{Msisdn, quotable};
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Method, Obstacle, Step};
use chatbill_domain::ids::{ReferenceId, TenantId, UserId};
use chatbill_domain::lenient;
use chatbill_domain::message::{
    Checkout, Content, Form, Fulfilment, Outgoing, Progress, QrCode, Remedy, Report, SendFailure,
    Tag, Template,
};
use chatbill_domain::payment::{Found, PaymentMode, RefundReport, RefundRequest, Speed};
use chatbill_domain::phone::Country;
use chatbill_domain::signature;
use chatbill_domain::tenant::{self, ChannelKind, ChannelSettings, FirstForm, Tenant};
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use percent_encoding::utf8_percent_encode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::bsp::not_offered;
use crate::native::{self, PaymentId, transaction_report};
use crate::template;
use crate::wire::{STRICT, failure, is, is_plain, list, patient, text, whole, wish};

/// "Graph API, versions": v23.0 is the version of the OpenAPI description this file follows.
const BASE_URL: &str = "https://graph.facebook.com/v23.0";
/// "Throughput": messages a second of one number, unless Meta raised it.
const RATE: u32 = 80;
/// Ours, where Meta names no time: the throughput (130429) is counted by the second, so one that is certainly over will do.
const THROUGHPUT_PAUSE: u32 = 2;
/// Ours: the limits of app and account (4, 80007) are counted by the hour; this often somebody may ask whether it is over.
const LIMIT_PAUSE: u32 = 5;
/// Our rule, not Meta's: its challenges are short numbers, and nothing but letters and digits is echoed to a browser.
const LONGEST_CHALLENGE: usize = 128;

/// What codes call for.
struct Rule {
    codes: std::ops::RangeInclusive<i64>,
    remedy: Remedy,
}

const fn rule(code: i64, remedy: Remedy) -> Rule {
    Rule {
        codes: code..=code,
        remedy,
    }
}

/// Every code that can come back for a message, in the order of Meta's "Cloud API error codes" (2026), unless another page is
/// named. The texts are Meta's, shortened.
const RULES: &[Rule] = &[
    // Authorization errors.
    rule(0, Remedy::Alert),   // AuthException: the token cannot be read.
    rule(3, Remedy::Alert),   // API Method: capability or permission missing.
    rule(10, Remedy::Alert),  // Permission denied.
    rule(190, Remedy::Alert), // Access token has expired.
    Rule {
        codes: 200..=299, // API permission: not granted or removed.
        remedy: Remedy::Alert,
    },
    rule(131_005, Remedy::Alert), // Access denied.
    // Integrity errors.
    rule(368, Remedy::Alert), // Temporarily blocked for policy violations.
    rule(130_497, Remedy::Alert), // Business account is restricted from messaging users in this country.
    rule(131_031, Remedy::Alert), // Account has been locked.
    rule(131_037, Remedy::Alert), // The number needs an approved display name before it may send.
    // Throttling errors.
    rule(4, Remedy::Throttled(LIMIT_PAUSE)), // API too many calls: the app's limit.
    rule(80_007, Remedy::Throttled(LIMIT_PAUSE)), // Rate limit issues: the WhatsApp business account's limit.
    rule(130_429, Remedy::Throttled(THROUGHPUT_PAUSE)), // Rate limit hit: the number's throughput.
    rule(131_048, Remedy::GiveUp), // Spam rate limit hit: too many messages of this number were blocked or flagged; lasts hours.
    rule(131_056, Remedy::RetryPair), // (Business account, consumer account) pair rate limit hit: 4^n seconds.
    rule(131_064, Remedy::GiveUp), // Messaging limit after templates were put in another category.
    rule(133_016, Remedy::Alert),  // Account register deregister rate limit exceeded.
    rule(132_069, Remedy::Alert), // Flow is throttled: ten messages an hour, which is no way to send bills.
    // Server and availability errors.
    rule(1, Remedy::RetryOnce), // API unknown: a bad request or a server error.
    rule(2, Remedy::Retry),     // API service: down or overloaded.
    rule(131_000, Remedy::Retry), // Something went wrong: unknown error.
    rule(131_016, Remedy::Retry), // Service unavailable.
    rule(131_057, Remedy::RetryAfter(60)), // Account in maintenance mode: throughput upgrade, up to a minute.
    rule(2_494_100, Remedy::RetryAfter(60)), // The same, as older versions report it.
    rule(133_004, Remedy::Retry),          // Server temporarily unavailable.
    rule(135_000, Remedy::RetryOnce),      // Generic user error.
    // Payments and billing.
    rule(131_042, Remedy::Alert), // Business eligibility payment issue: the account cannot be charged.
    rule(131_044, Remedy::Alert), // Billing: the same, as older accounts report it.
    rule(134_011, Remedy::Alert), // "Payment links", errors: WhatsApp Payments terms of service not accepted.
    // The customer cannot be reached this way.
    rule(131_047, Remedy::UseTemplate), // Re-engagement message: more than 24 hours since the customer last wrote.
    rule(131_026, Remedy::GiveUp),      // Message undeliverable: not on WhatsApp, old app, blocked.
    rule(131_049, Remedy::GiveUp),      // Not delivered to maintain healthy ecosystem engagement.
    rule(131_050, Remedy::GiveUp),      // The customer stopped marketing messages of this business.
    rule(130_472, Remedy::GiveUp),      // User's number is part of an experiment.
    rule(131_021, Remedy::GiveUp),      // Recipient cannot be sender.
    rule(131_030, Remedy::Alert), // Recipient number not in allowed list: the account is still a test account.
    rule(131_062, Remedy::GiveUp), // "Business-scoped user IDs": this kind of message needs the customer's number.
    // The message is not right.
    rule(33, Remedy::GiveUp),      // Parameter value is not valid.
    rule(100, Remedy::GiveUp),     // Invalid parameter.
    rule(131_008, Remedy::GiveUp), // Required parameter is missing.
    rule(131_009, Remedy::GiveUp), // Parameter value is not valid.
    rule(131_051, Remedy::GiveUp), // Unsupported message type.
    rule(131_052, Remedy::GiveUp), // Media download error: of a file the customer sent.
    rule(131_055, Remedy::GiveUp), // Method is not allowed.
    rule(131_060, Remedy::GiveUp), // Message unavailable.
    rule(131_053, Remedy::Media), // Media upload error: the link could not be fetched, perhaps only now.
    // The template is not right. It is wrong for every customer until somebody mends it or the tenant's document.
    rule(132_000, Remedy::Alert),  // Template param count mismatch.
    rule(132_001, Remedy::Alert),  // Template does not exist in this language or is not approved.
    rule(132_005, Remedy::GiveUp), // Template hydrated text too long: with this customer's values.
    rule(132_007, Remedy::Alert),  // Template format character policy violated.
    rule(132_008, Remedy::Alert),  // Template parameter format error.
    rule(132_012, Remedy::Alert),  // Template parameter format mismatch.
    rule(132_015, Remedy::Alert),  // Template is paused.
    rule(132_016, Remedy::Alert),  // Template is disabled.
    rule(132_018, Remedy::GiveUp), // "Templates": a value has a line break, a tab or many blanks; this customer's, not the next one's.
    rule(132_068, Remedy::Alert),  // Flow is blocked.
    rule(134_100, Remedy::Alert),  // Only marketing messages can be sent this way.
    rule(134_101, Remedy::Retry),  // The template is still being synchronized, up to ten minutes.
    rule(134_102, Remedy::Alert),  // The template cannot be used.
    // The number.
    rule(131_045, Remedy::Alert), // Incorrect certificate: the number's registration is broken.
    rule(133_000, Remedy::Alert), // Incomplete deregistration.
    rule(133_005, Remedy::Alert), // Two-step verification: wrong PIN.
    rule(133_006, Remedy::Alert), // The number has to be verified again.
    rule(133_008, Remedy::Alert), // Two-step verification: too many guesses.
    rule(133_009, Remedy::Alert), // Two-step verification: guessed too fast.
    rule(133_015, Remedy::Alert), // Deleted a moment ago; registering it has to wait.
    rule(133_010, Remedy::Alert), // Phone number not registered.
    // "Payment gateway integrations", order_status errors; they come by webhook.
    rule(2046, Remedy::GiveUp), // New order status was not correctly transitioned.
    rule(2047, Remedy::GiveUp), // Could not change order status to canceled: paid or being paid.
];

struct Meta {
    tenant: TenantId,
    base: String,
    phone_number_id: String,
    waba_id: String,
    authorization: SecretString,
    app_secrets: Vec<SecretString>,
    verify_token: [SecretString; 1],
    configuration_name: Option<String>,
    /// The gateway the configuration must lead to, when bills are paid through one.
    native_gateway: Option<String>,
    /// The shop's country decides how a number of a few digits is meant, in a bill and here alike.
    country: Country,
    consent_words: ConsentWords,
}

pub(crate) fn open(tenant: &Tenant) -> Result<Box<dyn Channel>, Vec<Fault>> {
    let account = &tenant.channel.account;
    let mut faults = Vec::new();
    if tenant.channel.kind == ChannelKind::Sms {
        faults.push(Fault::new(
            "/channel/kind",
            "impossible",
            "meta is whatsapp; for sms choose another provider",
        ));
    }
    faults.extend(impossible(&tenant.channel, tenant.payment.mode));
    let read = account.credentials.read("/channel/credentials", |f| {
        let phone_number_id = f.required_text("phone_number_id", 40);
        let waba_id = f.required_text("waba_id", 40);
        let token = tenant::secret(f, "access_token");
        let app_secrets = tenant::secrets(f, "app_secrets");
        let verify_token = tenant::secret(f, "verify_token");
        // Everything of Meta's is signed; its address may have the token all the same.
        let callback_token = tenant::callback_token(f);
        for (name, id) in [("phone_number_id", &phone_number_id), ("waba_id", &waba_id)] {
            if id.as_deref().is_some_and(|id| !is_plain(id)) {
                f.fault(name, "invalid", "must be letters and digits");
            }
        }
        Some((
            phone_number_id?,
            waba_id?,
            token?,
            app_secrets?,
            verify_token?,
            callback_token?,
        ))
    });
    match read {
        Ok((phone_number_id, waba_id, token, app_secrets, verify_token, _))
            if faults.is_empty() =>
        {
            let native = tenant.payment.mode == PaymentMode::PaymentGateway;
            Ok(Box::new(Meta {
                tenant: tenant.id.clone(),
                base: account
                    .base_url
                    .clone()
                    .unwrap_or_else(|| BASE_URL.to_owned()),
                phone_number_id,
                waba_id,
                authorization: SecretString::from(format!("Bearer {}", token.expose_secret())),
                app_secrets,
                verify_token: [verify_token],
                configuration_name: tenant.payment.configuration_name.clone(),
                native_gateway: native.then(|| tenant.payment.account.vendor.clone()),
                country: tenant.country,
                consent_words: tenant.consent_words.clone(),
            }))
        }
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// Settings that this provider, or this way of paying, leaves without effect. Nobody would notice before a customer does.
fn impossible(channel: &ChannelSettings, mode: PaymentMode) -> Vec<Fault> {
    let mut faults = Vec::new();
    if channel.fallback_to_sms && channel.kind == ChannelKind::WhatsApp {
        faults.push(Fault::new(
            "/channel/fallback_to_sms",
            "impossible",
            "meta sends no sms; choose a provider that has both",
        ));
    }
    if channel.qr_header.is_none() {
        return faults;
    }
    if mode == PaymentMode::PaymentGateway {
        faults.push(Fault::new(
            "/channel/qr_header",
            "impossible",
            "a checkout inside WhatsApp has no link or intent to scan",
        ));
    }
    let template = channel.invoice.as_ref();
    if template.is_some_and(|t| !t.media_header) && channel.form == FirstForm::Template {
        faults.push(Fault::new(
            "/channel/qr_header",
            "impossible",
            "bills go out as templates.invoice, which has no media_header to put the code into",
        ));
    }
    faults
}

impl Channel for Meta {
    /// One call, or two when the code to pay has to be uploaded first.
    fn send(&self, message: &Outgoing<'_>, answers: &[Answer]) -> SendStep {
        let (uploaded, answers) = match (picture(message), answers) {
            (None, answers) => (None, answers),
            (Some(png), []) => {
                return match refused_unsent(message) {
                    Some(failure) => SendStep::Failed(failure),
                    None => SendStep::Call(Box::new(self.upload(png))),
                };
            }
            (Some(_), [upload, rest @ ..]) => match uploaded(upload) {
                Ok(id) => (Some(id), rest),
                // A bill without the picture is better than no bill; but a template insists on it.
                Err(failure) if is_about_the_file(&failure) && message.template.is_none() => {
                    (None, rest)
                }
                Err(failure) => return SendStep::Failed(failure),
            },
        };
        match answers.first() {
            None => match refused_unsent(message) {
                Some(failure) => SendStep::Failed(failure),
                None => SendStep::Call(Box::new(self.message(message, uploaded.as_deref()))),
            },
            Some(answer) => match sent(answer) {
                Ok(id) => SendStep::Sent { id, segments: None },
                Err(failure) => SendStep::Failed(failure),
            },
        }
    }

    fn lookup_payment(&self, reference: &ReferenceId, answers: &[Answer]) -> Step<Found> {
        let Some(configuration) = &self.configuration_name else {
            return Step::failed(NOT_NATIVE);
        };
        match answers.first() {
            None => Step::call(self.ask("meta.lookup_payment", configuration, reference)),
            Some(answer) => Step::Done(looked_up(answer, reference)),
        }
    }

    fn rate(&self) -> Option<u32> {
        Some(RATE)
    }

    fn gives_back(&self) -> bool {
        true
    }

    /// "Payment gateway integrations", refund: part or all of what is left, at either speed; nothing else is documented.
    fn check_refund(&self, request: &RefundRequest) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.configuration_name.is_none() {
            faults.push(Fault::new(
                "",
                "impossible",
                "the tenant has no WhatsApp payment configuration any more; refund at the gateway",
            ));
        }
        let all = request.before.checked_add(request.amount);
        if all.is_none_or(|all| all > request.captured) {
            faults.push(Fault::new(
                "/amount",
                "too_large",
                "is more than what is left of the payment",
            ));
        }
        faults
    }

    /// Two calls: Meta has no idempotency key, so what is there already is asked first. That also keeps a refund from going to
    /// another payment than the one meant, because Meta's call names the bill only.
    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport> {
        let Some(configuration) = &self.configuration_name else {
            return Step::failed(NOT_NATIVE);
        };
        let Some(before) = answers.first() else {
            return Step::call(self.ask("meta.lookup_refund", configuration, &request.reference));
        };
        match answers.get(1) {
            None => match listed_refunds(before, request) {
                Err(error) => Step::failed(error),
                // What was never asked for is none of those listed, whatever their amounts.
                Ok(listed) => match if request.first {
                    Ok(None)
                } else {
                    ours(request, listed)
                } {
                    Ok(Some(report)) => Step::done(report),
                    Ok(None) => match looked_up(before, &request.reference)
                        .and_then(|found| native::is_paid_once(&found))
                    {
                        Ok(()) => Step::call(self.refund_call(configuration, request)),
                        Err(error) => Step::failed(error),
                    },
                    Err(error) => Step::failed(error),
                },
            },
            Some(answer) => Step::Done(refunded(answer, request)),
        }
    }

    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        let Some(configuration) = &self.configuration_name else {
            return Step::failed(NOT_NATIVE);
        };
        let Some(answer) = answers.first() else {
            return Step::call(self.ask("meta.lookup_refund", configuration, &request.reference));
        };
        let found = listed_refunds(answer, request).and_then(|listed| ours(request, listed));
        match found {
            // It was accepted once. That it is not in the list is no reason to make it again.
            Ok(None) if request.gateway_refund_id.is_some() => {
                Step::failed(unavailable("the refund is not in the list", None))
            }
            found => Step::Done(found),
        }
    }

    /// "Onboarding APIs": all configurations of the account, because only the list says beyond doubt that one is not there.
    fn check_account(&self, answers: &[Answer]) -> Step<Vec<Fault>> {
        let (Some(name), Some(gateway)) = (&self.configuration_name, &self.native_gateway) else {
            return Step::done(Vec::new());
        };
        match answers.first() {
            None => Step::call(HttpCall::get(
                "meta.payment_configurations",
                format!("{}/{}/payment_configurations", self.base, self.waba_id),
                self.authorization.clone(),
            )),
            Some(answer) => Step::Done(
                asked(answer).and_then(|document| configuration_faults(&document, name, gateway)),
            ),
        }
    }
}

/// Nothing to look up or to refund here.
const NOT_NATIVE: CallError = CallError::Unsupported(
    "only payments through a WhatsApp payment configuration are known to Meta",
);

/// What Meta would take, or refuse without a word the customer could use, and must not go out.
fn refused_unsent(out: &Outgoing<'_>) -> Option<SendFailure> {
    let insists =
        |template: &Template| template.media_header && template.standard_picture.is_none();
    if out.bare && out.template.is_some_and(insists) {
        return Some(failure(
            Remedy::GiveUp,
            "no_header",
            "the header could not be fetched, and the template cannot go without one; see standard_picture",
        ));
    }
    if out.form == Form::Sms {
        // The order turned to SMS while the tenant had another provider. As a WhatsApp message it could reach the customer twice.
        return Some(not_offered(Form::Sms));
    }
    match &out.content {
        // "Payment gateway integrations", order_status: an order begins as pending and never goes back to it.
        Content::Status {
            status: Fulfilment::Pending,
            ..
        } => Some(failure(
            Remedy::GiveUp,
            "status_pending",
            "pending cannot be sent as an order status",
        )),
        Content::Invoice {
            payment: Checkout::Intent { uri },
        } => template::check_intent(uri, out.bill.total)
            .err()
            .map(|why| {
                failure(
                    Remedy::GiveUp,
                    "intent_unusable",
                    &format!("the gateway's intent {why}"),
                )
            }),
        _ => None,
    }
}

/// The picture that has to be uploaded before this message: it heads a bill that has no header of its own, where there is a place
/// for it.
fn picture<'a>(out: &Outgoing<'a>) -> Option<&'a [u8]> {
    let has_place = out.template.is_none_or(|template| template.media_header);
    match (&out.content, &out.qr) {
        (Content::Invoice { .. }, Some(QrCode::Png(png)))
            if has_place && !out.bare && out.bill.header.is_none() =>
        {
            Some(png)
        }
        _ => None,
    }
}

impl Meta {
    /// "Media", upload: a form with `messaging_product`, `type` and `file`.
    fn upload(&self, png: &[u8]) -> HttpCall {
        // Made of the picture's own hash, so it stands in no picture, and the same picture makes the same call.
        let hash: String = signature::sha256(png)
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let boundary = format!("chatbill-{hash}");
        let mut body = Vec::new();
        for (name, value) in [("messaging_product", "whatsapp"), ("type", "image/png")] {
            body.extend_from_slice(
                format!(
                    "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
                .as_bytes(),
            );
        }
        body.extend_from_slice(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"pay.png\"\r\nContent-Type: image/png\r\n\r\n"
            )
            .as_bytes(),
        );
        body.extend_from_slice(png);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        HttpCall {
            method: Method::Post,
            body: Some((format!("multipart/form-data; boundary={boundary}"), body)),
            ..HttpCall::get(
                "meta.upload_media",
                format!("{}/{}/media", self.base, self.phone_number_id),
                self.authorization.clone(),
            )
        }
    }

    /// "Payment gateway integrations", lookup: a payment, its transactions and their refunds.
    fn ask(&self, label: &'static str, configuration: &str, reference: &ReferenceId) -> HttpCall {
        HttpCall::get(
            label,
            format!(
                "{}/{}/payments/{}/{}",
                self.base,
                self.phone_number_id,
                utf8_percent_encode(configuration, STRICT),
                utf8_percent_encode(reference.as_str(), STRICT),
            ),
            self.authorization.clone(),
        )
    }

    /// "Payment gateway integrations", refund: value and offset are strings here.
    fn refund_call(&self, configuration: &str, request: &RefundRequest) -> HttpCall {
        HttpCall::post_json(
            "meta.refund",
            format!("{}/{}/payments_refund", self.base, self.phone_number_id),
            self.authorization.clone(),
            &json!({
                "reference_id": request.reference.as_str(),
                "speed": match request.speed {
                    Speed::Normal => "normal",
                    Speed::Instant => "instant",
                },
                "payment_config_id": configuration,
                "amount": {
                    "currency": "INR",
                    "value": request.amount.get().to_string(),
                    "offset": "100",
                },
            }),
        )
    }

    fn message(&self, out: &Outgoing<'_>, uploaded: Option<&str>) -> HttpCall {
        let heading = template::heading(out, uploaded);
        let mut body = Map::new();
        body.insert("messaging_product".into(), "whatsapp".into());
        body.insert("recipient_type".into(), "individual".into());
        body.insert("to".into(), out.to.digits().into());
        body.insert(
            "biz_opaque_callback_data".into(),
            out.tag.named(&self.tenant).into(),
        );
        let (kind, value) = match (out.template, &out.content) {
            (Some(template), _) => ("template", template::template(out, template, heading)),
            (None, Content::Invoice { payment }) => (
                "interactive",
                template::invoice_under(out, payment, heading),
            ),
            (
                None,
                Content::Status {
                    status,
                    description,
                    text,
                },
            ) => (
                "interactive",
                template::status(out, *status, *description, text),
            ),
            (
                None,
                Content::Receipt { text } | Content::Failed { text } | Content::Refund { text, .. },
            ) => {
                let text = template::with_link(text, out.receipt_url);
                // A preview would have the receipt page fetched by others than the customer.
                ("text", json!({"preview_url": false, "body": text}))
            }
        };
        body.insert("type".into(), kind.into());
        body.insert(kind.into(), value);
        HttpCall::post_json(
            "meta.send_message",
            format!("{}/{}/messages", self.base, self.phone_number_id),
            self.authorization.clone(),
            &Value::Object(body),
        )
    }
}

/// The id of an uploaded picture. Nothing was sent to anybody yet, so whatever went wrong may be tried again, and nothing is in
/// doubt: a picture uploaded twice is only a picture.
fn uploaded(answer: &Answer) -> Result<String, SendFailure> {
    let reply = match answer {
        Answer::NotSent(reason) => return Err(failure(Remedy::Retry, "not_sent", reason)),
        Answer::Lost(reason) => return Err(failure(Remedy::Retry, "upload_lost", reason)),
        Answer::Reply(reply) => reply,
    };
    if reply.ok() {
        return reply
            .json()
            .and_then(|document| text(&document, "id"))
            .ok_or_else(|| {
                failure(
                    Remedy::Retry,
                    "upload_lost",
                    "accepted, but without a media id",
                )
            });
    }
    let refused = refused(reply);
    Err(match refused.remedy {
        Remedy::Unknown => SendFailure {
            remedy: Remedy::Retry,
            ..refused
        },
        _ => refused,
    })
}

/// Codes with which Meta refuses a file and nothing else: 100 unsupported or misspelled parameters, 131008, 131009 and 131051 a
/// value or type, 131053 media upload error, and an answer that finds it too large.
fn is_about_the_file(failure: &SendFailure) -> bool {
    matches!(
        failure.code.as_str(),
        "100" | "131008" | "131009" | "131051" | "131053" | "http_413" | "http_415"
    )
}

fn sent(answer: &Answer) -> Result<String, SendFailure> {
    let reply = match answer {
        Answer::NotSent(reason) => return Err(failure(Remedy::Retry, "not_sent", reason)),
        Answer::Lost(reason) => return Err(failure(Remedy::Unknown, "lost", reason)),
        Answer::Reply(reply) => reply,
    };
    if reply.ok() {
        let document = reply.json();
        let id = document
            .as_ref()
            .and_then(|d| text(d.pointer("/messages/0")?, "id"));
        return id.ok_or_else(|| {
            failure(
                Remedy::Unknown,
                "unreadable",
                "accepted, but without a message id",
            )
        });
    }
    Err(refused(reply))
}

/// What an answer that is no success calls for.
fn refused(reply: &HttpReply) -> SendFailure {
    let document = reply.json();
    let error = document.as_ref().and_then(error_of);
    let Some((code, error)) = error.and_then(|e| Some((whole(e.get("code")?)?, e))) else {
        return without_code(reply);
    };
    let remedy = match (remedy_of(code, error), reply.status) {
        (Some(remedy), _) => remedy,
        (None, _) if error.get("is_transient").and_then(Value::as_bool) == Some(true) => {
            Remedy::Retry
        }
        (None, 429) => Remedy::Throttled(LIMIT_PAUSE),
        (None, 400..=499) => Remedy::GiveUp,
        (None, _) => Remedy::Unknown,
    };
    SendFailure {
        remedy: patient(remedy, reply.retry_after),
        code: code.to_string(),
        detail: words(error),
    }
}

/// An answer that is no success and names no code: from something in front of Meta, or Meta in trouble.
fn without_code(reply: &HttpReply) -> SendFailure {
    let remedy = match reply.status {
        429 => patient(Remedy::Throttled(LIMIT_PAUSE), reply.retry_after),
        401 | 403 => Remedy::Alert,
        408 => Remedy::Unknown,
        // A redirect or a 404 is a wrong base URL or number.
        300..=399 | 404 => Remedy::Alert,
        400..=499 => Remedy::GiveUp,
        _ => Remedy::Unknown,
    };
    failure(
        remedy,
        &format!("http_{}", reply.status),
        "the answer names no error code",
    )
}

/// What a code calls for.
pub(crate) fn remedy(code: i64) -> Option<Remedy> {
    RULES
        .iter()
        .find(|rule| rule.codes.contains(&code))
        .map(|rule| rule.remedy)
}

/// The same, where a code alone does not say it: 132012 is about whichever parameter does not fit, and its details name the header when
/// it is the header's file ("header: Format mismatch, expected IMAGE, received DOCUMENT").
fn remedy_of(code: i64, error: &Value) -> Option<Remedy> {
    let is_header = code == 132_012 && words(error).to_ascii_lowercase().contains("header");
    if is_header {
        Some(Remedy::Media)
    } else {
        remedy(code)
    }
}

/// The error of either envelope: `{"error": {…}}` of the Graph API, `{"errors": [{…}]}` of the payments lookup.
fn error_of(document: &Value) -> Option<&Value> {
    document
        .get("error")
        .or_else(|| document.pointer("/errors/0"))
        .filter(|e| e.is_object())
}

/// What an error says in words: its details where there are some, because they name the field or the page to go to, and the
/// title only repeats the code. `error_data` is an object with `details`, or a plain text.
fn words(error: &Value) -> String {
    let data = error.get("error_data").and_then(|data| match data {
        Value::String(text) => Some(text.clone()),
        data => text(data, "details"),
    });
    let said = ["details", "message", "title"].iter();
    data.or_else(|| said.filter_map(|name| text(error, name)).next())
        .map(|said| quotable(&said))
        .unwrap_or_default()
}

impl Webhooks for Meta {
    fn name(&self) -> &'static str {
        "meta"
    }

    /// "Webhooks, getting started": `X-Hub-Signature-256` is `sha256=` and the lower-case hex HMAC-SHA256 of the raw body under the
    /// app's secret.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
        let presented = raw.header("x-hub-signature-256").ok_or(Refused::Missing)?;
        let hex = presented.strip_prefix("sha256=").ok_or(Refused::Mismatch)?;
        let proof = signature::hmac_sha256_hex(&self.app_secrets, &raw.body, hex)
            .ok_or(Refused::Mismatch)?;
        Ok(VerifiedWebhook::new(raw, proof))
    }

    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
        let hook = lenient::parse(webhook.body())
            .map_err(|error| Unreadable(format!("not JSON: {error}")))?;
        let Some(entries) = hook.get("entry").and_then(Value::as_array) else {
            // Partners that relay webhooks strip the envelope; Meta itself never does.
            return Ok(vec![Signal::Ignored("no envelope of Meta's".to_owned())]);
        };
        let mut signals = Vec::new();
        for change in entries.iter().flat_map(|entry| list(entry, "changes")) {
            self.read_change(change, &mut signals);
        }
        if signals.is_empty() {
            signals.push(Signal::Ignored("nothing in it".to_owned()));
        }
        Ok(signals)
    }

    /// Meta looks at the status only.
    fn acknowledgement(&self) -> &'static str {
        "ok"
    }

    fn challenge(&self, raw: &RawWebhook) -> Option<String> {
        let subscribing = raw.query("hub.mode") == Some("subscribe");
        let _proof = signature::same_secret(&self.verify_token, raw.query("hub.verify_token")?)?;
        let challenge = raw.query("hub.challenge")?;
        let plain = (1..=LONGEST_CHALLENGE).contains(&challenge.len())
            && challenge.bytes().all(|b| b.is_ascii_alphanumeric());
        (subscribing && plain).then(|| challenge.to_owned())
    }
}

impl Meta {
    fn read_change(&self, change: &Value, signals: &mut Vec<Signal>) {
        let field = text(change, "field").unwrap_or_default();
        let value = change.get("value").unwrap_or(&Value::Null);
        if field == "payment_configuration_update" {
            signals.push(Signal::Ignored(self.configuration_news(value)));
            return;
        }
        if field == "user_preferences" {
            // "Webhooks, user_preferences": customers stop or resume a business's marketing messages. Bills are utility messages.
            signals.push(Signal::Ignored(
                "a customer's wish about marketing messages, which bills are not".to_owned(),
            ));
            return;
        }
        if field == "user_id_update" {
            signals.extend(list(value, "user_id_update").iter().map(renamed));
            return;
        }
        if field != "messages" {
            signals.push(Signal::Ignored(format!(
                "field {} is not followed",
                quotable(&field)
            )));
            return;
        }
        // One app can serve several numbers, and then one tenant's URL hears of all of them. Another shop's bill may have the same
        // number as one of ours.
        let number = value
            .get("metadata")
            .and_then(|m| text(m, "phone_number_id"));
        if number.as_ref().is_some_and(|n| *n != self.phone_number_id) {
            elsewhere(value, signals);
            return;
        }
        for status in list(value, "statuses") {
            if text(status, "type").as_deref() == Some("payment") {
                payment_status(status, signals);
            } else {
                signals.push(self.message_status(status, value));
            }
        }
        for message in list(value, "messages") {
            // A window belongs to one number of ours: without the number nobody knows which.
            signals.push(match number {
                Some(_) => inbound(message, value, self),
                None => Signal::Ignored("a customer's message to an unknown number".to_owned()),
            });
        }
        for error in list(value, "errors") {
            let code = error.get("code").and_then(whole).unwrap_or_default();
            signals.push(Signal::Ignored(format!(
                "account error {code}: {}",
                words(error)
            )));
        }
    }
}

impl Meta {
    /// "Onboarding APIs", webhook `payment_configuration_update`. Loud when customers cannot pay with it.
    fn configuration_news(&self, value: &Value) -> String {
        let name = text(value, "configuration_name").unwrap_or_default();
        let status = text(value, "status").unwrap_or_default();
        let news = format!(
            "payment configuration {} is now {}",
            quotable(&name),
            quotable(&status)
        );
        if letters(&status) == "active" {
            return news;
        }
        let used = self.native_gateway.is_some() && self.configuration_name.as_ref() == Some(&name);
        let whose = if used {
            "THE BILLS OF THIS TENANT CANNOT BE PAID until it is Active"
        } else {
            "bills that name it cannot be paid until it is Active"
        };
        format!("ATTENTION: {news}; {whose}")
    }
}

/// "Needs_Testing" in tables, "Needs Testing" in the webhook's sample: only letters count.
fn letters(word: &str) -> String {
    word.chars()
        .filter(char::is_ascii_alphabetic)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// What the tenant document gets wrong about its payment configuration.
fn configuration_faults(
    document: &Value,
    name: &str,
    gateway: &str,
) -> Result<Vec<Fault>, CallError> {
    let groups = document
        .get("data")
        .and_then(Value::as_array)
        .ok_or_else(|| unavailable("the answer is not a list of payment configurations", None))?;
    let all = || {
        groups
            .iter()
            .flat_map(|group| list(group, "payment_configurations"))
    };
    let Some(found) = all().find(|c| text(c, "configuration_name").as_deref() == Some(name)) else {
        let names: Vec<String> = all()
            .filter_map(|c| text(c, "configuration_name"))
            .map(|name| quotable(&name))
            .collect();
        let others = match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        return Ok(vec![Fault::new(
            "/payment/configuration_name",
            "unknown",
            format!(
                "the WhatsApp account has no payment configuration of this name; it has {others}"
            ),
        )]);
    };
    let mut faults = Vec::new();
    let status = text(found, "status").unwrap_or_default();
    if letters(&status) != "active" {
        faults.push(Fault::new(
            "/payment/configuration_name",
            "inactive",
            format!(
                "the payment configuration is {}, not Active: customers cannot pay with it",
                quotable(&status)
            ),
        ));
    }
    let provider = text(found, "provider_name").unwrap_or_default();
    if letters(&provider) != letters(gateway) {
        faults.push(Fault::new(
            "/payment/configuration_name",
            "inconsistent",
            format!(
                "the payment configuration leads to {}, but /payment/gateway is {gateway}",
                quotable(&provider)
            ),
        ));
    }
    Ok(faults)
}

/// A report or message about another number of the same app. A tag names the tenant that has it; where there is none, nobody does.
fn elsewhere(value: &Value, signals: &mut Vec<Signal>) {
    let statuses = list(value, "statuses")
        .iter()
        .map(|status| Signal::Elsewhere {
            tenant: tag_of(status).and_then(|(_, tenant)| tenant),
            what: "a report",
        });
    let messages = list(value, "messages").iter().map(|_| Signal::Elsewhere {
        tenant: None,
        what: "a customer's message",
    });
    signals.extend(statuses.chain(messages));
}

fn tag_of(status: &Value) -> Option<(Tag, Option<TenantId>)> {
    Tag::parse_named(&text(status, "biz_opaque_callback_data")?)
}

/// "Business-scoped user IDs": the customer's id, in one of these fields, or beside the only contact the webhook names.
fn user(item: &Value, names: &[&str], value: &Value) -> Option<UserId> {
    let own = names
        .iter()
        .find_map(|name| UserId::parse(text(item, name)?).ok());
    own.or_else(|| match list(value, "contacts") {
        [contact] => UserId::parse(text(contact, "user_id")?).ok(),
        _ => None,
    })
}

/// "Business-scoped user IDs", field `user_id_update`.
fn renamed(update: &Value) -> Signal {
    let id = |name: &str| {
        let id = update.get("user_id").and_then(|ids| text(ids, name))?;
        UserId::parse(id).ok()
    };
    match (id("previous"), id("current")) {
        (Some(before), Some(now)) => Signal::Renamed { before, now },
        _ => Signal::Noticed(Notice::Unreadable, "a change of a customer's id".to_owned()),
    }
}

/// Kinds of messages that nobody wrote: "system" tells of changed numbers and preferences, "request_welcome" of an opened chat.
const NOT_WRITTEN: &[&str] = &["system", "request_welcome"];

/// "Webhooks, messages": a customer's own message opens the 24-hour window, whatever is in it.
fn inbound(message: &Value, value: &Value, ours: &Meta) -> Signal {
    let ignored = |what: &str| Signal::Ignored(what.to_owned());
    let kind = text(message, "type").unwrap_or_default();
    if NOT_WRITTEN.contains(&kind.as_str()) {
        return ignored("a notice about a customer");
    }
    if message.get("group_id").is_some() {
        // "Groups API": the window of a group is not its members'.
        return ignored("a message in a group");
    }
    // "Business-scoped user IDs": `from` is left out, or holds such an id, when the customer's number is not shown.
    let phone = text(message, "from")
        .map(|from| format!("+{}", from.trim_start_matches('+')))
        .and_then(|from| Msisdn::from_people(&from, ours.country).ok());
    let at = message
        .get("timestamp")
        .and_then(whole)
        .filter(|t| *t > 0)
        .map(Millis::from_seconds);
    let wish = wish(message, &ours.consent_words);
    match (phone, user(message, &["from_user_id", "from"], value)) {
        (Some(phone), _) => Signal::Inbound { phone, at, wish },
        (None, Some(user)) => Signal::InboundHidden { user, at, wish },
        (None, None) if wish.is_some() => Signal::Noticed(
            Notice::WishUnplaced,
            "the message has neither a number nor an id".to_owned(),
        ),
        (None, None) => ignored("a message from a customer whose number is not shown"),
    }
}

impl Meta {
    /// "Webhooks, messages, status": sent, delivered, read, failed.
    fn message_status(&self, status: &Value, value: &Value) -> Signal {
        // The message's id is not repeated here, because the customer's number is written into it.
        let word = text(status, "status").unwrap_or_default();
        let Some((tag, tenant)) = tag_of(status) else {
            return Signal::Ignored(format!(
                "{} of a message that carries no tag of ours",
                quotable(&word)
            ));
        };
        // Two tenants may share a number, too.
        if let Some(tenant) = tenant.filter(|tenant| *tenant != self.tenant) {
            return Signal::Elsewhere {
                tenant: Some(tenant),
                what: "a report",
            };
        }
        let code = list(status, "errors")
            .first()
            .and_then(|error| whole(error.get("code")?));
        let is_failure = code.is_some_and(|code| remedy(code).is_some());
        let report = match word.to_ascii_lowercase().as_str() {
            "failed" => Report::Failed(reported_failure(status)),
            // Whatever it is called.
            _ if is_failure => Report::Failed(reported_failure(status)),
            "sent" => Report::Progress(Progress::Sent),
            "delivered" => Report::Progress(Progress::Delivered),
            "read" => Report::Progress(Progress::Read),
            other => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
                let said = format!("{} with {code}", quotable(other));
                return Signal::Noticed(Notice::DeliveryWord, said);
            }
        };
        Signal::Message {
            tag,
            report,
            user: user(status, &["recipient_user_id"], value),
        }
    }
}

fn reported_failure(status: &Value) -> SendFailure {
    let error = list(status, "errors").first();
    let code = error.and_then(|e| whole(e.get("code")?));
    SendFailure {
        // It did not arrive, so a code nobody knows is at least not a message in doubt.
        remedy: code
            .zip(error)
            .and_then(|(code, error)| remedy_of(code, error))
            .unwrap_or(Remedy::GiveUp),
        code: code.map_or_else(|| "unknown".to_owned(), |code| code.to_string()),
        detail: error.map(words).unwrap_or_default(),
    }
}

/// "Webhooks, payment status". A payment is a hint: Meta's page asks for a lookup before anything is handed over. So are its
/// refunds, which stand beside the transaction here and inside it in the lookup.
fn payment_status(status: &Value, signals: &mut Vec<Signal>) {
    let Some(payment) = status.get("payment") else {
        signals.push(Signal::Ignored(
            "a payment status without a payment".to_owned(),
        ));
        return;
    };
    let Some(reference) = text(payment, "reference_id").and_then(|r| ReferenceId::parse(r).ok())
    else {
        signals.push(Signal::Ignored(
            "a payment that names no bill of ours".to_owned(),
        ));
        return;
    };
    let captured = is(status, "status", "captured");
    let report = payment.get("transaction").and_then(|transaction| {
        transaction_report(
            transaction,
            captured,
            payment.get("amount")?,
            text(payment, "currency")?,
        )
    });
    let Some(report) = report else {
        signals.push(Signal::Noticed(
            Notice::Unreadable,
            format!("a payment of {reference}"),
        ));
        return;
    };
    let payment_id = report.payment_id.clone();
    signals.push(Signal::Payment {
        reference: reference.clone(),
        report,
        trust: Trust::Hint,
    });
    for refund in list(payment, "refunds") {
        signals.push(match native::refund_report(refund, &payment_id) {
            Some(report) => Signal::Refund {
                reference: reference.clone(),
                report,
                trust: Trust::Hint,
            },
            None => Signal::Noticed(Notice::Unreadable, format!("a refund of {reference}")),
        });
    }
}

fn unavailable(reason: &str, retry_after: Option<u32>) -> CallError {
    CallError::Unavailable {
        reason: quotable(reason),
        retry_after,
    }
}

/// "Payment gateway integrations", lookup: a payment and its transactions.
fn looked_up(answer: &Answer, reference: &ReferenceId) -> Result<Found, CallError> {
    let document = asked(answer)?;
    native::found(payments(&document)?, reference, PaymentId::Gateway)
        .map_err(|reason| unavailable(reason, None))
}

/// Every refund of the payment that a refund is about.
fn listed_refunds(
    answer: &Answer,
    request: &RefundRequest,
) -> Result<Vec<RefundReport>, CallError> {
    let document = asked(answer)?;
    native::refunds(
        payments(&document)?,
        &request.reference,
        &request.payment_id,
    )
    .map_err(|reason| unavailable(reason, None))?
    .ok_or_else(|| CallError::Rejected {
        code: "refund_no_payment".to_owned(),
        reason: "Meta knows no such payment of this bill".to_owned(),
    })
}

fn payments(document: &Value) -> Result<&[Value], CallError> {
    document
        .get("payments")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or_else(|| unavailable("the answer is not a list of payments", None))
}

fn ours(
    request: &RefundRequest,
    listed: Vec<RefundReport>,
) -> Result<Option<RefundReport>, CallError> {
    native::ours(request, listed).map_err(|reason| unavailable(reason, None))
}

/// "Payment gateway integrations", refund, response.
fn refunded(answer: &Answer, request: &RefundRequest) -> Result<RefundReport, CallError> {
    let unknown = |reason: &str| CallError::Unknown {
        reason: quotable(reason),
    };
    let reply = match answer {
        Answer::NotSent(reason) => return Err(unavailable(reason, None)),
        Answer::Lost(reason) => return Err(unknown(reason)),
        Answer::Reply(reply) => reply,
    };
    let document = reply.json().unwrap_or_default();
    if let (true, Some(id), Some(status)) = (
        reply.ok(),
        text(&document, "id"),
        native::refund_status(&document),
    ) {
        return Ok(RefundReport {
            status,
            id: Some(id),
            name: None,
            payment_id: request.payment_id.clone(),
            amount: request.amount,
            speed: native::speed(&document),
            bank_reference: None,
            error: None,
            at: None,
        });
    }
    let error = error_of(&document);
    if reply.ok() && error.is_none() {
        return Err(unknown("accepted, but the answer cannot be read"));
    }
    let code = error.and_then(|e| whole(e.get("code")?));
    let said = error.map(words).unwrap_or_default();
    // Meta lists no code for it, and which of its texts repeats the gateway's words is not said either.
    if let Some(obstacle) = error.and_then(|e| Obstacle::told_by(&e.to_string())) {
        return Err(CallError::NotNow {
            obstacle,
            reason: said,
        });
    }
    match code.and_then(remedy) {
        // Turned away at the door: nothing was done.
        Some(Remedy::Throttled(_) | Remedy::RetryPair) => {
            Err(unavailable(&said, reply.retry_after))
        }
        None if reply.status == 429 => Err(unavailable(&said, reply.retry_after)),
        // The server's own trouble leaves open how far it came.
        Some(Remedy::Retry | Remedy::RetryAfter(_) | Remedy::RetryOnce | Remedy::Unknown) => {
            Err(unknown(&said))
        }
        _ if reply.ok()
            || reply.status >= 500
            || reply.status == 408
            || code.is_some_and(|c| (500..600).contains(&c)) =>
        {
            Err(unknown(&said))
        }
        _ => Err(CallError::Rejected {
            code: code.map_or_else(|| format!("http_{}", reply.status), |c| c.to_string()),
            reason: said,
        }),
    }
}

/// The document that answers a question. Asking changes nothing and may be repeated.
fn asked(answer: &Answer) -> Result<Value, CallError> {
    let reply = match answer {
        Answer::NotSent(reason) | Answer::Lost(reason) => return Err(unavailable(reason, None)),
        Answer::Reply(reply) => reply,
    };
    let document = reply
        .json()
        .ok_or_else(|| unavailable(&format!("HTTP status {}", reply.status), reply.retry_after))?;
    if let Some(error) = error_of(&document) {
        return Err(lookup_error(error, reply));
    }
    if !reply.ok() {
        return Err(unavailable(
            &format!("HTTP status {}", reply.status),
            reply.retry_after,
        ));
    }
    Ok(document)
}

fn lookup_error(error: &Value, reply: &HttpReply) -> CallError {
    let code = error.get("code").and_then(whole);
    let reason = words(error);
    let again = match code.and_then(remedy) {
        Some(remedy) => matches!(
            remedy,
            Remedy::Retry
                | Remedy::RetryAfter(_)
                | Remedy::RetryPair
                | Remedy::RetryOnce
                | Remedy::Throttled(_)
        ),
        // The lookup's own envelope uses HTTP-like codes: "500, Generic error, System error. Please try again."
        None => {
            reply.status == 429
                || reply.status >= 500
                || code.is_some_and(|c| (500..600).contains(&c))
        }
    };
    if again {
        unavailable(&reason, reply.retry_after)
    } else {
        CallError::Rejected {
            code: code.map_or_else(|| format!("http_{}", reply.status), |c| c.to_string()),
            reason,
        }
    }
}
