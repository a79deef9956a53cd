//! Meta's WhatsApp Cloud API.
//!
//! Documents: Meta, "Payments API – India" (see `template.rs`), "Messages", "Webhooks, messages" and "Webhooks, payment status",
//! "Cloud API error codes" (2026).
//!
//! What shapes this file:
//! - A 200 says "accepted". Whether the message arrived, and often that it could not, comes later by webhook and finds its order by
//!   `biz_opaque_callback_data`.
//! - There is no idempotency key for messages. An answer that was lost, or a server error that names no reason, is "unknown".
//! - What an error calls for is decided by its numeric code alone; HTTP statuses differ between accounts and texts change.
//! - Meta says itself that a payment webhook is to be confirmed by lookup, so payments here are hints.

use chatbill_domain::connector::{Channel, SendStep, Signal, Trust, Webhooks};
use chatbill_domain::contact::quotable;
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::message::{
    Content, Fulfilment, Outgoing, Progress, Remedy, Report, SendFailure, Tag,
};
use chatbill_domain::payment::{Found, RefundReport, RefundRequest};
use chatbill_domain::signature;
use chatbill_domain::tenant::{self, ChannelKind, Tenant};
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use percent_encoding::utf8_percent_encode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::native::{self, transaction_report};
use crate::template;
use crate::wire::{STRICT, failure, is, is_plain, list, patient, text, whole};

/// "Graph API, versions": v23.0 is the version of the OpenAPI description this file follows.
const BASE_URL: &str = "https://graph.facebook.com/v23.0";
/// "Throughput": messages a second of one number, unless Meta raised it.
const RATE: u32 = 80;
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
    // Throttling errors.
    rule(4, Remedy::Retry),           // API too many calls: the app's limit.
    rule(80_007, Remedy::Retry),      // Rate limit issues: the WhatsApp business account's limit.
    rule(130_429, Remedy::Retry),     // Rate limit hit: the number's throughput.
    rule(131_048, Remedy::GiveUp), // Spam rate limit hit: too many messages of this number were blocked or flagged; lasts hours.
    rule(131_056, Remedy::RetryPair), // (Business account, consumer account) pair rate limit hit: 4^n seconds.
    rule(131_064, Remedy::GiveUp), // Messaging limit after templates were put in another category.
    rule(133_016, Remedy::Alert),  // Account register deregister rate limit exceeded.
    // Server and availability errors.
    rule(1, Remedy::RetryOnce), // API unknown: a bad request or a server error.
    rule(2, Remedy::Retry),     // API service: down or overloaded.
    rule(131_000, Remedy::Retry), // Something went wrong: unknown error.
    rule(131_016, Remedy::Retry), // Service unavailable.
    rule(131_057, Remedy::RetryAfter(60)), // Account in maintenance mode: throughput upgrade, up to a minute.
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
    // The message is not right.
    rule(33, Remedy::GiveUp),         // Parameter value is not valid.
    rule(100, Remedy::GiveUp),        // Invalid parameter.
    rule(131_008, Remedy::GiveUp),    // Required parameter is missing.
    rule(131_009, Remedy::GiveUp),    // Parameter value is not valid.
    rule(131_051, Remedy::GiveUp),    // Unsupported message type.
    rule(131_053, Remedy::RetryOnce), // Media upload error: the link could not be fetched, perhaps only now.
    // The template is not right. It is wrong for every customer until somebody mends it or the tenant's document.
    rule(132_000, Remedy::Alert),  // Template param count mismatch.
    rule(132_001, Remedy::Alert),  // Template does not exist in this language or is not approved.
    rule(132_005, Remedy::GiveUp), // Template hydrated text too long: with this customer's values.
    rule(132_007, Remedy::Alert),  // Template format character policy violated.
    rule(132_008, Remedy::Alert),  // Template parameter format error.
    rule(132_012, Remedy::Alert),  // Template parameter format mismatch.
    rule(132_015, Remedy::Alert),  // Template is paused.
    rule(132_016, Remedy::Alert),  // Template is disabled.
    // The number.
    rule(133_010, Remedy::Alert), // Phone number not registered.
    // "Payment gateway integrations", order_status errors; they come by webhook.
    rule(2046, Remedy::GiveUp), // New order status was not correctly transitioned.
    rule(2047, Remedy::GiveUp), // Could not change order status to canceled: paid or being paid.
];

struct Meta {
    base: String,
    phone_number_id: String,
    authorization: SecretString,
    app_secrets: Vec<SecretString>,
    verify_token: [SecretString; 1],
    configuration_name: Option<String>,
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
    let read = account.credentials.read("/channel/credentials", |f| {
        let phone_number_id = f.required_text("phone_number_id", 40);
        // The account's id is only for people and for onboarding calls, but a document without it is incomplete.
        let waba_id = f.required_text("waba_id", 40);
        let token = tenant::secret(f, "access_token");
        let app_secrets = tenant::secrets(f, "app_secrets");
        let verify_token = tenant::secret(f, "verify_token");
        if phone_number_id.as_deref().is_some_and(|id| !is_plain(id)) {
            f.fault("phone_number_id", "invalid", "must be letters and digits");
        }
        waba_id?;
        Some((phone_number_id?, token?, app_secrets?, verify_token?))
    });
    match read {
        Ok((phone_number_id, token, app_secrets, verify_token)) if faults.is_empty() => {
            Ok(Box::new(Meta {
                base: account
                    .base_url
                    .clone()
                    .unwrap_or_else(|| BASE_URL.to_owned()),
                phone_number_id,
                authorization: SecretString::from(format!("Bearer {}", token.expose_secret())),
                app_secrets,
                verify_token: [verify_token],
                configuration_name: tenant.payment.configuration_name.clone(),
            }))
        }
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

impl Channel for Meta {
    fn send(&self, message: &Outgoing<'_>, answers: &[Answer]) -> SendStep {
        match answers.first() {
            None => match self.message(message) {
                Ok(call) => SendStep::Call(Box::new(call)),
                Err(failure) => SendStep::Failed(failure),
            },
            Some(answer) => match sent(answer) {
                Ok(id) => SendStep::Sent { id, segments: None },
                Err(failure) => SendStep::Failed(failure),
            },
        }
    }

    fn lookup_payment(&self, reference: &ReferenceId, answers: &[Answer]) -> Step<Found> {
        let Some(configuration) = &self.configuration_name else {
            return Step::failed(CallError::Unsupported(
                "only payments through a WhatsApp payment configuration can be looked up",
            ));
        };
        match answers.first() {
            None => Step::call(HttpCall::get(
                "meta.lookup_payment",
                format!(
                    "{}/{}/payments/{}/{}",
                    self.base,
                    self.phone_number_id,
                    utf8_percent_encode(configuration, STRICT),
                    utf8_percent_encode(reference.as_str(), STRICT),
                ),
                self.authorization.clone(),
            )),
            Some(answer) => Step::Done(looked_up(answer, reference)),
        }
    }

    fn rate(&self) -> Option<u32> {
        Some(RATE)
    }

    fn check_refund(&self, _request: &RefundRequest) -> Vec<Fault> {
        Vec::new()
    }

    fn refund(&self, _request: &RefundRequest, _answers: &[Answer]) -> Step<RefundReport> {
        Step::failed(CallError::Unsupported("refunds"))
    }

    fn lookup_refund(
        &self,
        _request: &RefundRequest,
        _answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        Step::failed(CallError::Unsupported("refunds"))
    }

    fn check_account(&self, _answers: &[Answer]) -> Step<Vec<Fault>> {
        Step::failed(CallError::Unsupported("account checks"))
    }
}

impl Meta {
    fn message(&self, out: &Outgoing<'_>) -> Result<HttpCall, SendFailure> {
        if let Content::Status {
            status: Fulfilment::Pending,
            ..
        } = &out.content
        {
            // "Payment gateway integrations", order_status: an order begins as pending and never goes back to it.
            return Err(failure(
                Remedy::GiveUp,
                "status_pending",
                "pending cannot be sent as an order status",
            ));
        }
        let mut body = Map::new();
        body.insert("messaging_product".into(), "whatsapp".into());
        body.insert("recipient_type".into(), "individual".into());
        body.insert("to".into(), out.to.digits().into());
        body.insert(
            "biz_opaque_callback_data".into(),
            out.tag.to_string().into(),
        );
        let (kind, value) = match (out.template, &out.content) {
            (Some(template), _) => ("template", template::template(out, template)),
            (None, Content::Invoice { payment }) => {
                ("interactive", template::invoice(out, payment))
            }
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
            (None, Content::Receipt { text } | Content::Failed { text } | Content::Refund { text, .. }) => {
                let text = template::with_link(text, out.receipt_url);
                // A preview would have the receipt page fetched by others than the customer.
                ("text", json!({"preview_url": false, "body": text}))
            }
        };
        body.insert("type".into(), kind.into());
        body.insert(kind.into(), value);
        Ok(HttpCall::post_json(
            "meta.send_message",
            format!("{}/{}/messages", self.base, self.phone_number_id),
            self.authorization.clone(),
            &Value::Object(body),
        ))
    }
}

fn sent(answer: &Answer) -> Result<String, SendFailure> {
    let reply = match answer {
        Answer::NotSent(reason) => return Err(failure(Remedy::Retry, "not_sent", reason)),
        Answer::Lost(reason) => return Err(failure(Remedy::Unknown, "lost", reason)),
        Answer::Reply(reply) => reply,
    };
    let document = reply.json();
    if reply.ok() {
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
    let error = document.as_ref().and_then(error_of);
    let Some((code, error)) = error.and_then(|e| Some((whole(e.get("code")?)?, e))) else {
        return Err(without_code(reply));
    };
    let remedy = match (remedy(code), reply.status) {
        (Some(remedy), _) => remedy,
        (None, _) if error.get("is_transient").and_then(Value::as_bool) == Some(true) => {
            Remedy::Retry
        }
        (None, 429) => Remedy::Retry,
        (None, 400..=499) => Remedy::GiveUp,
        (None, _) => Remedy::Unknown,
    };
    Err(SendFailure {
        remedy: patient(remedy, reply.retry_after),
        code: code.to_string(),
        detail: words(error),
    })
}

/// An answer that is no success and names no code: from something in front of Meta, or Meta in trouble.
fn without_code(reply: &HttpReply) -> SendFailure {
    let remedy = match reply.status {
        429 => patient(Remedy::Retry, reply.retry_after),
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
fn remedy(code: i64) -> Option<Remedy> {
    RULES
        .iter()
        .find(|rule| rule.codes.contains(&code))
        .map(|rule| rule.remedy)
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
        let hook: Value = serde_json::from_slice(webhook.body())
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
            signals.push(Signal::Ignored(format!(
                "payment configuration {} is now {}",
                quotable(&text(value, "configuration_name").unwrap_or_default()),
                quotable(&text(value, "status").unwrap_or_default()),
            )));
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
        if number.is_some_and(|number| number != self.phone_number_id) {
            signals.push(Signal::Ignored("about another phone number".to_owned()));
            return;
        }
        for status in list(value, "statuses") {
            signals.push(if text(status, "type").as_deref() == Some("payment") {
                payment_status(status)
            } else {
                message_status(status)
            });
        }
        for _ in list(value, "messages") {
            signals.push(Signal::Ignored("a message from a customer".to_owned()));
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

/// "Webhooks, messages, status": sent, delivered, read, failed.
fn message_status(status: &Value) -> Signal {
    // The message's id is not repeated here, because the customer's number is written into it.
    let word = text(status, "status").unwrap_or_default();
    let Some(tag) = text(status, "biz_opaque_callback_data").and_then(|t| Tag::parse(&t)) else {
        return Signal::Ignored(format!(
            "{} of a message that carries no tag of ours",
            quotable(&word)
        ));
    };
    let report = match word.as_str() {
        "sent" => Report::Progress(Progress::Sent),
        "delivered" => Report::Progress(Progress::Delivered),
        "read" => Report::Progress(Progress::Read),
        "failed" => Report::Failed(reported_failure(status)),
        other => {
            return Signal::Ignored(format!("{} of a message is not followed", quotable(other)));
        }
    };
    Signal::Message { tag, report }
}

fn reported_failure(status: &Value) -> SendFailure {
    let error = list(status, "errors").first();
    let code = error.and_then(|e| whole(e.get("code")?));
    SendFailure {
        // It did not arrive, so a code nobody knows is at least not a message in doubt.
        remedy: code.and_then(remedy).unwrap_or(Remedy::GiveUp),
        code: code.map_or_else(|| "unknown".to_owned(), |code| code.to_string()),
        detail: error.map(words).unwrap_or_default(),
    }
}

/// "Webhooks, payment status". A payment is a hint: Meta's page asks for a lookup before anything is handed over.
fn payment_status(status: &Value) -> Signal {
    let Some(payment) = status.get("payment") else {
        return Signal::Ignored("a payment status without a payment".to_owned());
    };
    let Some(reference) = text(payment, "reference_id").and_then(|r| ReferenceId::parse(r).ok())
    else {
        return Signal::Ignored("a payment that names no bill of ours".to_owned());
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
    match report {
        Some(report) => Signal::Payment {
            reference,
            report,
            trust: Trust::Hint,
        },
        None => Signal::Ignored(format!("a payment of {reference} that cannot be read")),
    }
}

/// "Payment gateway integrations", lookup: a payment and its transactions.
fn looked_up(answer: &Answer, reference: &ReferenceId) -> Result<Found, CallError> {
    let unavailable = |reason: &str, retry_after: Option<u32>| CallError::Unavailable {
        reason: quotable(reason),
        retry_after,
    };
    let reply = match answer {
        // Asking changes nothing and may be repeated.
        Answer::NotSent(reason) | Answer::Lost(reason) => return Err(unavailable(reason, None)),
        Answer::Reply(reply) => reply,
    };
    let document = reply
        .json()
        .ok_or_else(|| unavailable(&format!("HTTP status {}", reply.status), reply.retry_after))?;
    if let Some(error) = error_of(&document) {
        return Err(lookup_error(error, reply));
    }
    let payments = document.get("payments").and_then(Value::as_array);
    let Some(payments) = payments.filter(|_| reply.ok()) else {
        return Err(unavailable(
            "the answer is not a list of payments",
            reply.retry_after,
        ));
    };
    native::found(payments, reference).map_err(|reason| unavailable(reason, None))
}

fn lookup_error(error: &Value, reply: &HttpReply) -> CallError {
    let code = error.get("code").and_then(whole);
    let reason = words(error);
    let again = match code.and_then(remedy) {
        Some(remedy) => matches!(
            remedy,
            Remedy::Retry | Remedy::RetryAfter(_) | Remedy::RetryPair | Remedy::RetryOnce
        ),
        // The lookup's own envelope uses HTTP-like codes: "500, Generic error, System error. Please try again."
        None => {
            reply.status == 429
                || reply.status >= 500
                || code.is_some_and(|c| (500..600).contains(&c))
        }
    };
    if again {
        CallError::Unavailable {
            reason,
            retry_after: reply.retry_after,
        }
    } else {
        CallError::Rejected {
            code: code.map_or_else(|| format!("http_{}", reply.status), |c| c.to_string()),
            reason,
        }
    }
}
