//! Kaleyra.io: WhatsApp and SMS.
//!
//! Documents: developers.kaleyra.io, "Send WhatsApp Pay Messages", "Send an SMS", "Callback Profiles", "Create Callback Profile for
//! Incoming WhatsApp Messages" (2024 to 2026).
//!
//! What shapes this file:
//! - An order inside WhatsApp is documented for payments through a payment configuration only ("type: must be set to
//!   payment_gateway"). In the other modes the bill goes out as a text with the link, and changes of the order as texts too.
//! - One account sends both: WhatsApp, and SMS for an SMS tenant or when WhatsApp has definitely failed.
//! - Which HTTP status an error has is stated nowhere, so the error envelope is looked for in every answer.
//! - What a callback looks like is set up by the tenant; `docs/kaleyra-callback.md` is our side of it. WhatsApp requests have no
//!   field that comes back with the reports, so the address they come to names the message.
//! - There is no idempotency key. An answer that was lost is "unknown", for messages and for refunds.
//! - A refund names the bill only, not the payment, so it is first made sure that the payment is this bill's.

use chatbill_domain::bill::Header;
use chatbill_domain::connector::{Channel, SendStep, Signal, Trust, Webhooks, Wish};
use chatbill_domain::consent::ConsentWords;
use chatbill_domain::contact::quotable;
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Method, Obstacle, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::lenient;
use chatbill_domain::message::{
    Checkout, Content, Form, Fulfilment, Outgoing, Remedy, SendFailure, Tag,
};
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Found, PaymentMode, PaymentReport, RefundReport, RefundRequest, RefundStatus,
    Speed,
};
use chatbill_domain::signature;
use chatbill_domain::sms::Encoding;
use chatbill_domain::tenant::{self, ChannelKind, Tenant};
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use crate::bsp::{self, REST, Sms};
use crate::native::{self, PaymentId};
use crate::wire::{self, FORM, callback, code, failure, form, is_plain, text};
use crate::{meta, placeholders, template};

/// The India pod, for Indian accounts; `https://api.kaleyra.io` is Singapore.
const BASE_URL: &str = "https://api.in.kaleyra.io";
/// "Send WhatsApp Pay Messages", payment_gateway object.
const GATEWAYS: &[&str] = &["razorpay", "payu"];
/// The header of a callback profile that holds the secret; our choice.
const TOKEN_HEADER: &str = "x-chatbill-token";
/// "Send WhatsApp Pay Messages", footer.
const LONGEST_FOOTER: usize = 60;

/// Why an SMS was not delivered, as letters and digits only, and what it calls for.
const TRACES: &[(&str, Remedy)] = &[
    ("NOCREDITS", Remedy::Alert),
    ("BLACKLIST", Remedy::GiveUp),
    ("CONDND", Remedy::GiveUp),
    ("TEMPLATENOTFOUND", Remedy::Alert),
    ("OPTOUT", Remedy::GiveUp),
    ("INVALIDSUB", Remedy::GiveUp),
    ("MOBOFF", Remedy::Retry), // Switched off; later perhaps not.
    ("NOTALLOWED", Remedy::Alert),
    ("KYCNOTAPPROVED", Remedy::Alert),
];

struct Kaleyra {
    base: String,
    sid: String,
    api_key: SecretString,
    callback_token: [SecretString; 1],
    callback_profile_id: Option<String>,
    tenant: String,
    /// The WhatsApp number; an SMS channel has none.
    whatsapp: Option<String>,
    sms: Option<Sms>,
    payment_number: String,
    configuration_name: Option<String>,
    consent_words: ConsentWords,
}

pub(crate) fn open(tenant: &Tenant) -> Result<Box<dyn Channel>, Vec<Fault>> {
    let channel = &tenant.channel;
    let account = &channel.account;
    let by_whatsapp = channel.kind == ChannelKind::WhatsApp;
    let mut faults = template::undocumented(channel, "Kaleyra");
    let gateway = tenant.payment.account.vendor.as_str();
    let native = tenant.payment.mode == PaymentMode::PaymentGateway;
    if by_whatsapp && native && !GATEWAYS.contains(&gateway) {
        faults.push(Fault::new(
            "/payment/gateway",
            "impossible",
            format!(
                "payments inside WhatsApp go through {} at Kaleyra",
                GATEWAYS.join(" or ")
            ),
        ));
    }
    if channel.qr_header.is_some() {
        faults.push(bsp::no_qr(if by_whatsapp {
            "the header of Kaleyra's order messages is a text"
        } else {
            "an SMS has no header"
        }));
    }
    let read = account.credentials.read("/channel/credentials", |f| {
        let sid = f.required_text("sid", 80);
        if sid.as_deref().is_some_and(|sid| !is_plain(sid)) {
            f.fault("sid", "invalid", "must be letters and digits");
        }
        let api_key = tenant::secret(f, "api_key");
        let callback_token = bsp::read_callback_token(f);
        let callback_profile_id = f.text("callback_profile_id", 100);
        if callback_profile_id.is_some() && channel.fallback_to_sms {
            f.fault(
                "callback_profile_id",
                "impossible",
                "reports of WhatsApp messages through a profile do not name their message, so fallback_to_sms could not be known to be due",
            );
        }
        let payment_number = f.text("payment_number", 40);
        let sms = bsp::read_sms(f, channel)?;
        Some(Kaleyra {
            base: account
                .base_url
                .clone()
                .unwrap_or_else(|| BASE_URL.to_owned()),
            sid: sid?,
            api_key: api_key?,
            callback_token: [callback_token?],
            callback_profile_id,
            tenant: tenant.id.to_string(),
            whatsapp: by_whatsapp.then(|| channel.from.clone()),
            sms,
            payment_number: payment_number.unwrap_or_else(|| channel.from.clone()),
            configuration_name: tenant.payment.configuration_name.clone(),
            consent_words: tenant.consent_words.clone(),
        })
    });
    match read {
        Ok(kaleyra) if faults.is_empty() => Ok(Box::new(kaleyra)),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

impl Channel for Kaleyra {
    fn send(&self, message: &Outgoing<'_>, answers: &[Answer]) -> SendStep {
        let step = match message.form {
            Form::Sms => self.by_sms(message, answers.first()),
            Form::Interactive | Form::Template => self.by_whatsapp(message, answers.first()),
        };
        step.unwrap_or_else(SendStep::Failed)
    }

    fn lookup_payment(&self, reference: &ReferenceId, answers: &[Answer]) -> Step<Found> {
        let Some(configuration) = &self.configuration_name else {
            return Step::failed(CallError::Unsupported(NATIVE_ONLY));
        };
        match answers.first() {
            None => Step::call(self.ask(reference, configuration)),
            Some(answer) => Step::Done(looked_up(answer, reference)),
        }
    }

    /// 429 is answered, but at which rate stands nowhere.
    fn rate(&self) -> Option<u32> {
        None
    }

    fn gives_back(&self) -> bool {
        true
    }

    fn check_refund(&self, _request: &RefundRequest) -> Vec<Fault> {
        match self.configuration_name {
            Some(_) => Vec::new(),
            None => vec![Fault::new("", "impossible", NATIVE_ONLY)],
        }
    }

    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport> {
        let Some(configuration) = &self.configuration_name else {
            return Step::failed(CallError::Unsupported(NATIVE_ONLY));
        };
        match answers {
            [] => Step::call(self.ask(&request.reference, configuration)),
            [asked] => match looked_up(asked, &request.reference) {
                Ok(found) if is_paid_by(&found, &request.payment_id) => {
                    match native::is_paid_once(&found) {
                        Ok(()) => Step::call(self.give_back(request, configuration)),
                        Err(error) => Step::failed(error),
                    }
                }
                // Kaleyra would give back whichever payment it has under this number.
                Ok(_) => Step::failed(CallError::Rejected {
                    code: "not_this_payment".to_owned(),
                    reason: "Kaleyra knows this payment under no message of this bill's own number"
                        .to_owned(),
                }),
                Err(error) => Step::failed(error),
            },
            [_, answer, ..] => Step::Done(given_back(answer, request)),
        }
    }

    /// The payment status is the only question there is. That it tells of refunds is not printed; if it does, they are read as Meta's
    /// are. A refund that is not in it may have been made all the same, so "none" is never the answer.
    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        let Some(configuration) = &self.configuration_name else {
            return Step::failed(CallError::Unsupported(NATIVE_ONLY));
        };
        let Some(answer) = answers.first() else {
            return Step::call(self.ask(&request.reference, configuration));
        };
        let found = match looked_up(answer, &request.reference) {
            Ok(found) => found,
            Err(error) => return Step::failed(error),
        };
        let of_payment = |refund: &RefundReport| refund.payment_id == request.payment_id;
        let listed = found.refunds.into_iter().filter(of_payment).collect();
        match native::ours(request, listed) {
            Ok(Some(refund)) => Step::done(Some(refund)),
            Ok(None) | Err(_) => Step::failed(CallError::Unsupported(
                "Kaleyra's payment status does not tell of this refund; look at the gateway's dashboard",
            )),
        }
    }

    fn check_account(&self, _answers: &[Answer]) -> Step<Vec<Fault>> {
        Step::failed(CallError::Unsupported(
            "Kaleyra documents no way to ask about an account's payment configurations",
        ))
    }
}

const NATIVE_ONLY: &str =
    "only payments through a WhatsApp payment configuration are known to Kaleyra";

impl Kaleyra {
    fn call(
        &self,
        label: &'static str,
        method: Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> HttpCall {
        HttpCall {
            label,
            method,
            url: format!("{}/v1/{}/{path}", self.base, self.sid),
            authorization: None,
            secret_header: Some(("api-key", self.api_key.clone())),
            headers: Vec::new(),
            body,
        }
    }

    fn by_whatsapp(
        &self,
        message: &Outgoing<'_>,
        answer: Option<&Answer>,
    ) -> Result<SendStep, SendFailure> {
        let from = self
            .whatsapp
            .as_deref()
            .ok_or_else(|| bsp::not_offered(message.form))?;
        match answer {
            None => self
                .whatsapp(message, from)
                .map(|call| SendStep::Call(Box::new(call))),
            Some(answer) => sent(answer).map(|id| SendStep::Sent { id, segments: None }),
        }
    }

    fn by_sms(
        &self,
        message: &Outgoing<'_>,
        answer: Option<&Answer>,
    ) -> Result<SendStep, SendFailure> {
        let account = self
            .sms
            .as_ref()
            .ok_or_else(|| bsp::not_offered(message.form))?;
        match answer {
            None => self
                .sms(message, account)
                .map(|call| SendStep::Call(Box::new(call))),
            Some(answer) => {
                let id = sent(answer)?;
                let segments = account.templates.compose(message)?.segments;
                Ok(SendStep::Sent {
                    id,
                    segments: Some(segments),
                })
            }
        }
    }

    /// "Payment status API". The page prints two more addresses, one with a doubled version; this is the sample's.
    fn ask(&self, reference: &ReferenceId, configuration: &str) -> HttpCall {
        self.call(
            "kaleyra.lookup_payment",
            Method::Get,
            &format!(
                "whatsapp/payment/status?{}",
                form(&[
                    ("number", &self.payment_number),
                    ("reference_id", reference.as_str()),
                    ("payment_config_id", configuration),
                ])
            ),
            None,
        )
    }

    /// "Payment Refund API". The sample's address lacks the account, which the stated base URL has; its amounts are texts.
    fn give_back(&self, request: &RefundRequest, configuration: &str) -> HttpCall {
        let body = json!({
            "reference_id": request.reference.as_str(),
            "speed": match request.speed {
                Speed::Normal => "normal",
                Speed::Instant => "instant",
            },
            "payment_config_id": configuration,
            "currency": "INR",
            "value": request.amount.get().to_string(),
            "offset": "100",
            "number": self.payment_number,
        });
        let kind = "application/json".to_owned();
        self.call(
            "kaleyra.refund_payment",
            Method::Post,
            "whatsapp/payment/refund",
            Some((kind, body.to_string().into_bytes())),
        )
    }

    /// Where reports about this message go; the message's name comes back with them.
    fn report_to(&self, out: &Outgoing<'_>) -> String {
        let [token] = &self.callback_token;
        let address = callback(out, "kaleyra", &self.tenant, token);
        format!("{address}&{}", form(&[("tag", &out.tag.to_string())]))
    }

    /// "Send WhatsApp Pay Messages": one form for a bill, a change of it, and a text.
    fn whatsapp(&self, out: &Outgoing<'_>, from: &str) -> Result<HttpCall, SendFailure> {
        let native = out.mode == PaymentMode::PaymentGateway;
        let mut fields = vec![("to", out.to.digits().to_owned())];
        let mut say = |kind: &str, body: String| {
            fields.push(("type", kind.to_owned()));
            fields.push(("channel", "WhatsApp".to_owned()));
            fields.push(("from", from.to_owned()));
            fields.push(("body", body));
        };
        let action = match &out.content {
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
            Content::Invoice { payment } if native => {
                say("order_details", template::invoice_text(out));
                let parameters = template::order_details(out, payment);
                Some(json!({"name": "review_and_pay", "parameters": parameters}))
            }
            Content::Status {
                status,
                description,
                text,
            } if native => {
                say("order_status", template::cut(text, template::LONGEST_BODY));
                let parameters = template::order_status(out, status.as_str(), *description);
                Some(json!({"name": "review_order", "parameters": parameters}))
            }
            Content::Invoice { payment } => {
                let link = match payment {
                    Checkout::Link { url } => url,
                    // A chat makes no link of upi://; the page does.
                    Checkout::Intent { .. } | Checkout::Configuration { .. } => out.receipt_url,
                };
                say(
                    "text",
                    template::with_link(&template::invoice_text(out), link),
                );
                None
            }
            Content::Status { text, .. }
            | Content::Receipt { text }
            | Content::Failed { text }
            | Content::Refund { text, .. } => {
                say("text", template::with_link(text, out.receipt_url));
                None
            }
        };
        if let Some(action) = action {
            if let Content::Invoice { .. } = &out.content {
                if let Some(footer) = &out.bill.footer {
                    fields.push(("footer", template::cut(footer, LONGEST_FOOTER)));
                }
                // "header": a text; without one WhatsApp shows the first item's picture.
                if let Some(Header::Text(header)) = &out.bill.header {
                    fields.push(("header", header.clone()));
                }
            }
            fields.push(("action", action.to_string()));
        }
        match &self.callback_profile_id {
            Some(id) => fields.push(("callback_profile_id", id.clone())),
            None => fields.push(("callback_url", self.report_to(out))),
        }
        Ok(self.call(
            "kaleyra.send_whatsapp",
            Method::Post,
            "messages",
            Some(multipart(&fields)),
        ))
    }

    /// "Send an SMS". The entity is bound to the sender, so it is not named.
    fn sms(&self, out: &Outgoing<'_>, account: &Sms) -> Result<HttpCall, SendFailure> {
        let sms = account.templates.compose(out)?;
        let (tag, report_to) = (out.tag.to_string(), self.report_to(out));
        let callback = json!({"url": report_to, "method": "POST"}).to_string();
        let mut fields = vec![
            ("to", out.to.e164()),
            ("sender", &account.sender),
            ("type", "TXN"),
            ("body", &sms.text),
            ("template_id", sms.template_id),
            ("ref", &tag),
        ];
        if sms.encoding == Encoding::Ucs2 {
            fields.push(("unicode", "Auto"));
        }
        match &self.callback_profile_id {
            Some(id) => fields.push(("callback_profile_id", id)),
            None => fields.push(("callback", &callback)),
        }
        Ok(self.call(
            "kaleyra.send_sms",
            Method::Post,
            "messages",
            Some((FORM.to_owned(), form(&fields).into_bytes())),
        ))
    }
}

/// RFC 7578, with a boundary that is in none of the values. The same fields always make the same bytes.
fn multipart(fields: &[(&str, String)]) -> (String, Vec<u8>) {
    let mut number: u32 = 0;
    let mut boundary = "chatbill".to_owned();
    while fields.iter().any(|(_, value)| value.contains(&boundary)) {
        number = number.saturating_add(1);
        boundary = format!("chatbill-{number}");
    }
    let mut body = String::new();
    for (name, value) in fields {
        body.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    body.push_str(&format!("--{boundary}--\r\n"));
    let kind = format!("multipart/form-data; boundary={boundary}");
    (kind, body.into_bytes())
}

/// 202 with an id for each recipient, or the error envelope, whatever its HTTP status.
fn sent(answer: &Answer) -> Result<String, SendFailure> {
    let reply = match answer {
        Answer::NotSent(reason) => return Err(failure(Remedy::Retry, "not_sent", reason)),
        Answer::Lost(reason) => return Err(failure(Remedy::Unknown, "lost", reason)),
        Answer::Reply(reply) => reply,
    };
    let document = reply.json().unwrap_or(Value::Null);
    let id = document
        .pointer("/data/0")
        .and_then(|first| text(first, "message_id"))
        .or_else(|| text(&document, "id"));
    match (reply.ok(), is_error(&document), id) {
        (true, false, Some(id)) => Ok(id),
        (true, false, None) => Err(failure(
            Remedy::Unknown,
            "unreadable",
            "accepted, but without a message id",
        )),
        // Accepted and refused at once: a second message must not follow what may have gone out.
        (true, true, Some(_)) => Err(failure(Remedy::Unknown, "unclear", &words(&document))),
        _ => Err(refused(reply, &document)),
    }
}

/// An `error` that says something, or a code with nothing accepted.
fn is_error(document: &Value) -> bool {
    let said = match document.get("error") {
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::String(words)) => !words.is_empty(),
        _ => false,
    };
    said || (document.get("code").is_some() && document.get("id").is_none())
}

fn refused(reply: &HttpReply, document: &Value) -> SendFailure {
    let code = text(document, "code");
    let remedy = match (code.as_deref(), reply.status) {
        // "Invalid/incorrect inputs": it stays wrong.
        (Some("E413"), _) => Remedy::GiveUp,
        (_, 429) => Remedy::Throttled(REST),
        (_, 300..=399 | 401..=404) => Remedy::Alert,
        (_, 408) => Remedy::Unknown,
        (_, 503) => Remedy::Retry,
        // A server error says nothing about the message.
        (_, 500..) => Remedy::Unknown,
        // Their own refusal, also where it comes with a 2xx.
        (_, _) => Remedy::GiveUp,
    };
    SendFailure {
        remedy: bsp::heed(remedy, reply.retry_after),
        code: code.map_or_else(|| format!("http_{}", reply.status), |code| quotable(&code)),
        detail: words(document),
    }
}

/// Which field is wrong and why; the message only where no field is named.
fn words(document: &Value) -> String {
    let fields: Vec<String> = match document.get("error") {
        Some(Value::Object(fields)) => fields
            .iter()
            .filter_map(|(name, why)| Some(format!("{name}: {}", why.as_str()?)))
            .collect(),
        Some(Value::String(words)) => vec![words.clone()],
        _ => Vec::new(),
    };
    if fields.is_empty() {
        quotable(&text(document, "message").unwrap_or_default())
    } else {
        quotable(&fields.join("; "))
    }
}

fn unavailable(reason: &str, retry_after: Option<u32>) -> CallError {
    CallError::Unavailable {
        reason: quotable(reason),
        retry_after,
    }
}

/// "Payment status API". What it answers about a bill it does not know is not printed; a refusal is taken for one, because an order
/// that expires for such an answer might be paid.
fn looked_up(answer: &Answer, reference: &ReferenceId) -> Result<Found, CallError> {
    let reply = match answer {
        // Asking changes nothing and may be repeated.
        Answer::NotSent(reason) | Answer::Lost(reason) => return Err(unavailable(reason, None)),
        Answer::Reply(reply) => reply,
    };
    let document = reply
        .json()
        .ok_or_else(|| unavailable(&format!("HTTP status {}", reply.status), reply.retry_after))?;
    match status_of(reply, &document) {
        200..=299 => {}
        429 | 500.. => return Err(unavailable(&words(&document), reply.retry_after)),
        status => return Err(rejected(status, &document)),
    }
    let payments = document.pointer("/data/payments").and_then(Value::as_array);
    let payments = payments
        .ok_or_else(|| unavailable("the answer is not a list of payments", reply.retry_after))?;
    native::found(payments, reference, PaymentId::Order).map_err(|reason| unavailable(reason, None))
}

/// "WA200" and "WA400" hold the status that the answer itself may not have.
fn status_of(reply: &HttpReply, document: &Value) -> u16 {
    text(document, "code")
        .and_then(|code| {
            code.trim_start_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .ok()
        })
        .filter(|_| reply.ok())
        .unwrap_or(reply.status)
}

fn rejected(status: u16, document: &Value) -> CallError {
    let code = text(document, "code");
    CallError::Rejected {
        code: code.map_or_else(|| format!("http_{status}"), |code| quotable(&code)),
        reason: words(document),
    }
}

fn is_paid_by(found: &Found, payment_id: &str) -> bool {
    found
        .reports
        .iter()
        .any(|r| r.status == AttemptStatus::Captured && r.payment_id == payment_id)
}

/// "Payment Refund API": id, status and speed without an envelope, or the error envelope.
fn given_back(answer: &Answer, request: &RefundRequest) -> Result<RefundReport, CallError> {
    let unknown = |reason: &str| CallError::Unknown {
        reason: quotable(reason),
    };
    let reply = match answer {
        Answer::NotSent(reason) => return Err(unavailable(reason, None)),
        Answer::Lost(reason) => return Err(unknown(reason)),
        Answer::Reply(reply) => reply,
    };
    let document = reply
        .json()
        .ok_or_else(|| unknown(&format!("HTTP status {}", reply.status)))?;
    // Kaleyra passes on what the gateway says; no code is listed for it.
    if let Some(obstacle) = Obstacle::told_by(&words(&document))
        .filter(|_| is_error(&document) && document.get("id").is_none())
    {
        return Err(CallError::NotNow {
            obstacle,
            reason: words(&document),
        });
    }
    match status_of(reply, &document) {
        200..=299 if !is_error(&document) => {}
        // A refusal with the status of a success.
        200..=299 if document.get("id").is_none() => return Err(rejected(reply.status, &document)),
        429 => return Err(unavailable(&words(&document), reply.retry_after)),
        // Timed out there, or broken: the money may be on its way.
        status @ (408 | 200..=299 | 500..) => {
            return Err(unknown(&format!("{status}: {}", words(&document))));
        }
        status => return Err(rejected(status, &document)),
    }
    let id = text(&document, "id").ok_or_else(|| unknown("accepted, but without a refund id"))?;
    Ok(RefundReport {
        status: native::refund_status(&document).unwrap_or(RefundStatus::Pending),
        id: Some(id),
        name: None,
        payment_id: request.payment_id.clone(),
        amount: request.amount,
        speed: native::speed(&document),
        bank_reference: None,
        error: None,
        at: None,
    })
}

impl Webhooks for Kaleyra {
    fn name(&self) -> &'static str {
        "kaleyra"
    }

    /// "Callback Profiles": a static header of the profile. The addresses we give with each message have the secret in their query.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
        let presented = raw
            .header(TOKEN_HEADER)
            .or_else(|| raw.query("token"))
            .ok_or(Refused::Missing)?;
        let proof =
            signature::same_secret(&self.callback_token, presented).ok_or(Refused::Mismatch)?;
        Ok(VerifiedWebhook::new(raw, proof))
    }

    /// `docs/kaleyra-callback.md`. What the body does not say is looked for in the query.
    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
        let query = &webhook.raw().query;
        bsp::each(&bsp::documents(webhook, placeholders::read)?, |body| {
            let mut fields = Map::new();
            for (name, value) in query {
                fields.insert(name.clone(), value.as_str().into());
            }
            for (name, value) in body.as_object().into_iter().flatten() {
                let empty = value.is_null() || value.as_str() == Some("");
                // Which message it is about, the address we gave says better than a body with a customer's words in it.
                let is_ours = name == "tag" && webhook.raw().query("tag").is_some();
                if !empty && !is_ours {
                    fields.insert(name.clone(), value.clone());
                }
            }
            report_signal(&Value::Object(fields), &self.consent_words)
        })
    }

    /// Kaleyra looks at the status only.
    fn acknowledgement(&self) -> &'static str {
        "ok"
    }

    fn challenge(&self, _raw: &RawWebhook) -> Option<String> {
        None
    }
}

fn report_signal(report: &Value, words: &ConsentWords) -> Result<Vec<Signal>, Unreadable> {
    if is_inbound(report) {
        return Ok(vec![bsp::inbound(
            text(report, "from").as_deref(),
            bsp::time(report, "created_at"),
            wish(report, words),
        )]);
    }
    if text(report, "status").is_none() {
        return match text(report, "event") {
            Some(event) => Ok(vec![Signal::Ignored(format!(
                "{} without a status",
                quotable(&event)
            ))]),
            None => Err(Unreadable("a callback without a status".to_owned())),
        };
    }
    Ok(vec![match text(report, "event").as_deref() {
        Some("payment") => payment_signal(report),
        _ => message_signal(report),
    }])
}

/// "Create Callback Profile for Incoming WhatsApp Messages": our body of it, or the page's own. Only there `wanumber` stands, and a
/// customer's words stand there unescaped: whatever else such a body says, it tells of a message from a customer.
fn is_inbound(report: &Value) -> bool {
    text(report, "wanumber").is_some() || text(report, "event").as_deref() == Some("inbound")
}

/// What a customer asks for. A text is in `body`; of a button or a list the page names no variable of its own, so the others that hold
/// words are looked at as well: `custom_response` and `message`, which may be WhatsApp's own object as a text.
fn wish(report: &Value, words: &ConsentWords) -> Option<Wish> {
    let said = ["body", "custom_response", "message"];
    said.iter().find_map(|name| {
        let said = report.get(*name)?;
        match said {
            Value::String(text) => words.wish(text).or_else(|| {
                let inner = lenient::parse(text.as_bytes()).ok()?;
                wire::wish(&inner, words)
            }),
            object => wire::wish(object, words),
        }
    })
}

fn message_signal(report: &Value) -> Signal {
    let id = text(report, "message_id").or_else(|| text(report, "id"));
    let status = text(report, "status").unwrap_or_default();
    let code = code(report, "code");
    let trace = |said: &str| {
        let word = bsp::plain(said);
        let trace = TRACES.iter().find(|(name, _)| *name == word);
        trace.map(|(_, remedy)| (said.to_owned(), *remedy))
    };
    bsp::Told {
        id: &id.unwrap_or_default(),
        status: &status,
        known: code
            .as_deref()
            .and_then(|code| trace(code).or_else(|| cloud_api(code)))
            .or_else(|| trace(&status)),
        code,
        detail: text(report, "detail").unwrap_or_default(),
    }
    .about(text(report, "tag").and_then(|tag| Tag::parse(&tag)))
}

/// "Cloud API Error Codes": Kaleyra passes Meta's on. Only the long ones, which are nobody else's.
fn cloud_api(code: &str) -> Option<(String, Remedy)> {
    let number: i64 = code.parse().ok().filter(|number| *number >= 130_000)?;
    Some((code.to_owned(), meta::remedy(number)?))
}

/// A hint: whoever holds the money is asked, and what is said here only tells when.
fn payment_signal(payment: &Value) -> Signal {
    let Some(reference) = text(payment, "reference_id").and_then(|r| ReferenceId::parse(r).ok())
    else {
        return Signal::Ignored("a payment that names no bill of ours".to_owned());
    };
    let status = match bsp::plain(&text(payment, "status").unwrap_or_default()).as_str() {
        "CAPTURED" | "SUCCESS" => AttemptStatus::Captured,
        "FAILED" | "CANCELED" | "CANCELLED" | "VOIDED" | "EXPIRED" => AttemptStatus::Failed,
        _ => AttemptStatus::Pending,
    };
    Signal::Payment {
        report: PaymentReport {
            paid_in_full: None,
            fee: None,
            offer: None,
            status,
            payment_id: text(payment, "transaction_id").unwrap_or_else(|| reference.to_string()),
            amount: Paise::ZERO,
            currency: "INR".to_owned(),
            method: None,
            error: None,
            at: None,
        },
        reference,
        trust: Trust::Hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundary_is_in_none_of_the_values() {
        for values in [
            vec!["plain", ""],
            vec!["--chatbill\r\n", "chatbill-1 chatbill-2"],
            vec!["chatbill-1", "x"],
        ] {
            let fields: Vec<(&str, String)> =
                values.iter().map(|v| ("name", (*v).to_owned())).collect();
            let (kind, body) = multipart(&fields);
            let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
            assert!(values.iter().all(|value| !value.contains(boundary)));
            let body = String::from_utf8(body).unwrap();
            let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
            assert_eq!(
                (parts.len(), parts.first(), parts.last()),
                (values.len() + 2, Some(&""), Some(&"--\r\n"))
            );
            for (part, value) in parts[1..].iter().zip(&values) {
                assert_eq!(
                    *part,
                    format!("\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n{value}\r\n")
                );
            }
        }
    }
}
