//! PayU India, through payment links.
//!
//! Documents (docs.payu.in, copies of 2024 to 2026): "Get Token API - Payment Links", "Create a Payment Link API", "Get Single Payment
//! Link", "Change Status or Expiry for a Payment Link API", "Get Transaction Details API", "Verify Payment API", "Check Payment API",
//! "Refund Transaction API", "Error Codes for Refund Initiation", "Check Refund Status API" (with request id, with PayU ID), "Refund
//! Status Callback", "Payment State Explanations", "Webhook Events and Sample Payloads". Hashes: npm payu-websdk 1.3.1, run.
//!
//! What shapes this file:
//! - The webhook's hash covers the transaction's number, amount and status, but neither PayU's id of the payment (`mihpayid`) nor
//!   `unmappedstatus`, which tells authorised money from captured. The customer's browser gets the same fields with the same hash,
//!   so whoever paid one bill could send the form again with another payment's id: a bill paid "twice", and a refund that goes to a
//!   payment of their choice. So a webhook with the right hash wakes a question to PayU, and the answer is what counts.
//! - The invoice number is taken once, so it is the key against making a link twice. It is alphanumeric, and other shops on the
//!   account count their bills as this one does; so it is a name made of tenant and bill (`names.rs`).
//! - Whether a link's payment has the invoice number as its `txnid` is not documented; the sample of "Get Transaction Details" has
//!   another. So bill and tenant go out in `udf1`, marked, and a link's payments are asked for by the link and then by their
//!   `mihpayid`. PayU tells every address of the account of every payment: one with another tenant's mark, or with nothing of ours
//!   on it, is somebody else's.
//! - The refund callback has no hash: it is let through unsigned when its address has the tenant's `callback_token`, and
//!   [`chatbill_domain::connector::signals`] makes a hint of it.
//! - Links take an OAuth token, everything else a hash of key and salt. Which of the two secrets is in the hash of a link's webhook
//!   the documents say both ways; as such a webhook only makes us ask, either is taken.
//! - Webhooks are forms, or JSON where the account is set so, with the same fields and hash.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chatbill_domain::bill::Bill;
use chatbill_domain::connector::{Gateway, Signal, Trust, Webhooks};
use chatbill_domain::contact::quotable;
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{
    Answer, CallError, HttpCall, HttpReply, MAX_CALLS, Method, Obstacle, Step,
};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::lenient;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Closed, Found, LookupRequest, PayForm, PaymentMode, PaymentReport,
    PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::proof::{BillProofs, Whose};
use chatbill_domain::signature::{self, Proof};
use chatbill_domain::tenant::{self, PaymentSettings};
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::members::members;
use crate::names;

/// "Get Token API - Payment Links", environment.
const TOKEN_URL: &str = "https://accounts.payu.in";
/// "Create a Payment Link API", environment.
const LINK_URL: &str = "https://oneapi.payu.in";
/// "Verify Payment API", environment.
const INFO_URL: &str = "https://info.payu.in";
/// "Get Token API - Payment Links": one token may carry these three.
const SCOPES: &str = "create_payment_links update_payment_links read_payment_links";
/// A token is renewed this many seconds before it ends, so that it does not end under way.
const TOKEN_MARGIN: i64 = 300;
/// "Additional Info for Payment APIs", txnid: 25 characters; the newer description of the link API has the same for invoiceNumber.
const LONGEST_ORDER_ID: usize = 25;
/// "Additional Info for Payment APIs", productinfo: 100 characters.
const LONGEST_DESCRIPTION: usize = 100;
/// "Additional Info for Payment APIs", firstname: 60 characters.
const LONGEST_NAME: usize = 60;
/// "Additional Info for Payment APIs", udf1 to udf5: 255 characters.
const LONGEST_UDF: usize = 255;
/// "Create a Payment Link API", subAmount: at least one rupee.
const SMALLEST_AMOUNT: i64 = 100;
/// "Error Codes for Refund Initiation", 214: "Same amount same transaction within 5 minutes". Seconds.
const SAME_AMOUNT_PAUSE: i64 = 300;
/// "Error Codes for Refund Initiation": failures whose words say that no refund was begun. Not 104, 107, 108, 115, 119, 123 and 231,
/// whose words leave it open.
const REFUND_REFUSED: [&str; 21] = [
    "103", "105", "110", "111", "113", "116", "117", "124", "128", "129", "230", "232", "233",
    "234", "235", "236", "237", "238", "239", "250", "251",
];
/// PayU writes times of India. Seconds east of Greenwich.
const INDIA: i64 = 19_800;
/// "Get Transaction Details API", pageSize: the default of the vendor's SDK.
const PAGE: &str = "20";

/// Everything but RFC 3986's unreserved characters, for one path segment or form value.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

struct Payu {
    base_url: Option<String>,
    key: String,
    /// Current first; the webhooks of some time after a change still carry the previous one.
    salts: Vec<SecretString>,
    client_id: SecretString,
    client_secret: SecretString,
    merchant_id: String,
    /// In the address that PayU reports to. What has no hash is refused without.
    callback_token: Option<SecretString>,
    proofs: BillProofs,
    /// Native checkout: WhatsApp makes the payments, not we, and `udf1` is the merchant's own.
    native: bool,
}

pub(crate) fn open(settings: &PaymentSettings) -> Result<Box<dyn Gateway>, Vec<Fault>> {
    let account = &settings.account;
    let mut faults = Vec::new();
    if settings.mode == PaymentMode::UpiIntent {
        faults.push(Fault::new(
            "/payment/mode",
            "impossible",
            "payu offers payment_link and payment_gateway here; its intent call is not in its public documents",
        ));
    }
    let read = account.credentials.read("/payment/credentials", |f| {
        let key = f.required_text("key", 100);
        // It stands between the separators of every hash.
        if key.as_ref().is_some_and(|key| key.contains('|')) {
            f.fault("key", "invalid", "must not contain a |");
        }
        let salts = tenant::secrets(f, "salts");
        let client_id = tenant::secret(f, "client_id");
        let client_secret = tenant::secret(f, "client_secret");
        let merchant_id = f.required_text("merchant_id", 40);
        let callback_token = tenant::callback_token(f);
        // It stands in a header.
        if merchant_id
            .as_ref()
            .is_some_and(|id| !id.bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            f.fault(
                "merchant_id",
                "invalid",
                "must consist of letters and digits",
            );
        }
        Some((
            key?,
            salts?,
            client_id?,
            client_secret?,
            merchant_id?,
            callback_token?,
        ))
    });
    match read {
        Ok((key, salts, client_id, client_secret, merchant_id, callback_token))
            if faults.is_empty() =>
        {
            Ok(Box::new(Payu {
                base_url: account.base_url.clone(),
                key,
                salts,
                client_id,
                client_secret,
                merchant_id,
                callback_token,
                proofs: settings.proofs.clone(),
                native: settings.mode == PaymentMode::PaymentGateway,
            }))
        }
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

// ---- Calls ----

impl Payu {
    fn url(&self, host: &str, path: &str) -> String {
        format!("{}{path}", self.base_url.as_deref().unwrap_or(host))
    }

    fn form(
        &self,
        label: &'static str,
        host: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> HttpCall {
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, STRICT)))
            .collect();
        HttpCall {
            label,
            method: Method::Post,
            url: self.url(host, path),
            authorization: None,
            secret_header: None,
            headers: Vec::new(),
            body: Some((
                "application/x-www-form-urlencoded".to_owned(),
                body.join("&").into_bytes(),
            )),
        }
    }

    fn token_call(&self) -> HttpCall {
        let fields = [
            ("client_id", self.client_id.expose_secret()),
            ("client_secret", self.client_secret.expose_secret()),
            ("grant_type", "client_credentials"),
            ("scope", SCOPES),
        ];
        self.form("payu.token", TOKEN_URL, "/oauth/token", &fields)
    }

    /// A call about links. "Create a Payment Link API", headers: `Authorization: Bearer` and `merchantId`.
    fn link_call(&self, label: &'static str, path: &str, token: &SecretString) -> HttpCall {
        let bearer = SecretString::from(format!("Bearer {}", token.expose_secret()));
        HttpCall {
            headers: vec![("merchantId", self.merchant_id.clone())],
            ..HttpCall::get(
                label,
                self.url(LINK_URL, &format!("/payment-links{path}")),
                bearer,
            )
        }
    }

    fn fetch_link(&self, id: &str, token: &SecretString) -> HttpCall {
        let id = utf8_percent_encode(id, STRICT);
        self.link_call("payu.fetch_link", &format!("/{id}"), token)
    }

    /// "Get Transaction Details API": attempts between two days, newest first.
    fn link_payments(&self, id: &str, from: Millis, to: Millis, token: &SecretString) -> HttpCall {
        const DAY: i64 = 86_400;
        let id = utf8_percent_encode(id, STRICT);
        let (from, to) = (
            indian_date(from.plus_seconds(-DAY)),
            indian_date(to.plus_seconds(DAY)),
        );
        self.link_call(
            "payu.link_payments",
            &format!(
                "/{id}/txns?pageSize={PAGE}&orderBy=addedOn&order=desc&dateFrom={from}&dateTo={to}"
            ),
            token,
        )
    }

    /// "Change Status or Expiry for a Payment Link API".
    fn deactivate_link(&self, id: &str, token: &SecretString) -> HttpCall {
        let id = utf8_percent_encode(id, STRICT);
        HttpCall {
            method: Method::Put,
            body: Some(json_body(&json!({"active": false}).to_string())),
            ..self.link_call("payu.deactivate_link", &format!("/{id}"), token)
        }
    }

    fn create_link(&self, request: &PaymentRequest, token: &SecretString) -> HttpCall {
        // The bill's udf1 moves to udf5, because udf1 names the bill; the others keep their places.
        let udf = |name: &str| {
            let value = request.bill.extras.get(name).map(String::as_str);
            plain(value.unwrap_or_default(), LONGEST_UDF)
        };
        let customer = &request.bill.customer;
        let phone = customer.phone.e164();
        let rest = json!({
            "invoiceNumber": request.order_id,
            "description": plain(&request.description, LONGEST_DESCRIPTION),
            "source": "API",
            "currency": "INR",
            "isPartialPaymentAllowed": false,
            "isAmountFilledByCustomer": false,
            "maxPaymentsAllowed": 1,
            "expiryDate": indian_time(request.expires_at),
            // The customer hears from the shop's own channel, never from the gateway as well.
            "viaEmail": false,
            "viaSms": false,
            "successURL": request.return_url,
            "failureURL": request.return_url,
            "customer": {
                "name": plain(customer.name.as_deref().unwrap_or("Customer"), LONGEST_NAME),
                // The samples have ten digits.
                "phone": phone.strip_prefix("+91").unwrap_or(phone),
            },
            "udf": {
                "udf1": self.udf1(&request.reference),
                "udf2": udf("udf2"),
                "udf3": udf("udf3"),
                "udf4": udf("udf4"),
                "udf5": udf("udf1"),
            },
        })
        .to_string();
        // PayU wants rupees as a JSON number. It is written from the exact decimal text, because no float may come near money.
        let rest = rest.strip_prefix('{').unwrap_or(&rest);
        let body = format!("{{\"subAmount\":{},{rest}", rupees(request.amount));
        HttpCall {
            method: Method::Post,
            body: Some(json_body(&body)),
            ..self.link_call("payu.create_link", "", token)
        }
    }

    /// "Verify Payment API" and its neighbours: the hash covers key, command and var1, nothing else.
    fn command(
        &self,
        label: &'static str,
        command: &str,
        var1: &str,
        more: &[(&str, &str)],
    ) -> HttpCall {
        let salt = self.salts.first().map_or("", |s| s.expose_secret());
        let hash =
            signature::sha512_hex(format!("{}|{command}|{var1}|{salt}", self.key).as_bytes());
        let mut fields = vec![
            ("key", self.key.as_str()),
            ("command", command),
            ("var1", var1),
        ];
        fields.extend_from_slice(more);
        fields.push(("hash", &hash));
        self.form(label, INFO_URL, "/merchant/postservice.php?form=2", &fields)
    }

    fn refund_call(&self, request: &RefundRequest) -> HttpCall {
        // var2, the token: 23 characters ("Refund Status Callback", token).
        self.command(
            "payu.refund",
            "cancel_refund_transaction",
            &request.payment_id,
            &[
                ("var2", &request.token),
                ("var3", &request.amount.decimal()),
            ],
        )
    }

    /// Every refund of a payment.
    fn refunds_call(&self, payment_id: &str) -> HttpCall {
        self.command(
            "payu.refunds",
            "check_action_status",
            payment_id,
            &[("var2", "payuid")],
        )
    }
}

fn json_body(text: &str) -> (String, Vec<u8>) {
    ("application/json".to_owned(), text.as_bytes().to_vec())
}

/// Whole rupees without decimals, as in the vendor's samples; else both decimals.
fn rupees(amount: Paise) -> String {
    let text = amount.decimal();
    match text.strip_suffix(".00") {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Without the character that separates the parts of a hash: there is no way to escape it.
fn plain(text: &str, longest: usize) -> String {
    text.replace('|', "/").chars().take(longest).collect()
}

/// `yyyy-MM-dd HH:mm:ss` in India.
fn indian_time(at: Millis) -> String {
    at.plus_seconds(INDIA)
        .rfc3339()
        .replace('T', " ")
        .trim_end_matches('Z')
        .to_owned()
}

fn indian_date(at: Millis) -> String {
    indian_time(at)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Reads `2023-03-21 17:58:30`, the same with fractions, and `2023-03-21T14:53:52.000+0530`; all of them are times of India.
fn read_time(text: &str) -> Option<Millis> {
    let text = text.trim().replacen(' ', "T", 1);
    let text = text.strip_suffix("+0530").unwrap_or(&text);
    Millis::from_rfc3339(&format!("{text}+05:30"))
}

// ---- Tokens ----

#[derive(Clone)]
struct Token {
    secret: SecretString,
    expires_at: Millis,
}

/// Tokens of this process, by host and client. One is only ever replaced, never taken away: within one conversation, which has one
/// `now`, a token that was there stays there, so the answers so far keep their meaning.
static TOKENS: Mutex<BTreeMap<[u8; 32], Token>> = Mutex::new(BTreeMap::new());

impl Payu {
    /// The secret is part of it: a new one must not live on an old one's token.
    fn client(&self) -> [u8; 32] {
        let base = self.base_url.as_deref().unwrap_or(TOKEN_URL);
        let (id, secret) = (
            self.client_id.expose_secret(),
            self.client_secret.expose_secret(),
        );
        signature::sha256(format!("{base}\n{id}\n{secret}").as_bytes())
    }

    fn cached_token(&self, now: Millis) -> Option<SecretString> {
        let tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&self.client())?;
        (token.expires_at > now.plus_seconds(TOKEN_MARGIN)).then(|| token.secret.clone())
    }

    fn keep_token(&self, token: &Token) {
        let mut tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.client();
        // Conversations are replayed with every answer, and an old one must not bring its token back.
        let newer = tokens
            .get(&client)
            .is_none_or(|known| known.expires_at <= token.expires_at);
        if newer {
            tokens.insert(client, token.clone());
        }
    }
}

/// "Get Token API - Payment Links", response: access_token, expires_in in seconds.
fn read_token(answer: &Answer, now: Millis) -> Option<Token> {
    let Answer::Reply(reply) = answer else {
        return None;
    };
    let document = reply.json().filter(|_| reply.ok())?;
    let lives = document
        .get("expires_in")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    Some(Token {
        secret: SecretString::from(text(&document, "access_token")?),
        expires_at: now.plus_seconds(lives),
    })
}

// ---- Conversations ----

/// Why a conversation does not go on.
enum Halt {
    /// It needs this call's answer.
    Call(Box<HttpCall>),
    /// It ended badly.
    Failed(CallError),
}

type Talked<T> = Result<T, Halt>;

fn step<T>(talked: Talked<T>) -> Step<T> {
    match talked {
        Ok(value) => Step::done(value),
        Err(Halt::Call(call)) => Step::Call(call),
        Err(Halt::Failed(error)) => Step::failed(error),
    }
}

/// A conversation that is replayed from its beginning with the answers so far.
struct Talk<'a> {
    payu: &'a Payu,
    now: Millis,
    answers: std::iter::Peekable<std::slice::Iter<'a, Answer>>,
    used: usize,
    token: Option<SecretString>,
    /// PayU said that the token is no good; another one was asked for.
    renewed: bool,
}

impl<'a> Talk<'a> {
    fn new(payu: &'a Payu, now: Millis, answers: &'a [Answer]) -> Self {
        Self {
            payu,
            now,
            answers: answers.iter().peekable(),
            used: 0,
            token: None,
            renewed: false,
        }
    }

    /// How many calls it may still make.
    fn left(&self) -> usize {
        MAX_CALLS.saturating_sub(self.used)
    }

    fn ask(&mut self, call: HttpCall) -> Talked<&'a Answer> {
        match self.answers.next() {
            Some(answer) => {
                self.used = self.used.saturating_add(1);
                Ok(answer)
            }
            None if self.left() == 0 => Err(unavailable("this took too many calls")),
            None => Err(Halt::Call(Box::new(call))),
        }
    }

    /// A token of this conversation, of this process, or a new one. An answer with a token in it is always a token's; every other
    /// one answers what was asked with the token that was there.
    fn token(&mut self) -> Talked<SecretString> {
        while let Some(token) = self
            .answers
            .peek()
            .and_then(|answer| read_token(answer, self.now))
        {
            self.answers.next();
            self.used = self.used.saturating_add(1);
            self.payu.keep_token(&token);
            self.token = Some(token.secret);
        }
        let cached = || self.payu.cached_token(self.now);
        match &self.token {
            Some(token) => return Ok(token.clone()),
            None if !self.renewed => {
                if let Some(token) = cached() {
                    return Ok(token);
                }
            }
            None => {}
        }
        let answer = self.ask(self.payu.token_call())?;
        Err(Halt::Failed(match answer {
            Answer::NotSent(reason) | Answer::Lost(reason) => again(reason),
            Answer::Reply(reply) => match reply.status {
                // RFC 6749, 5.2: 400 or 401 with invalid_client.
                400 | 401 | 403 => refused_key("the client id or secret is refused"),
                status => CallError::Unavailable {
                    reason: format!("no token, HTTP status {status}"),
                    retry_after: reply.retry_after,
                },
            },
        }))
    }

    /// A call about links; once more with a new token when the old one is refused.
    fn link(&mut self, make: impl Fn(&SecretString) -> HttpCall) -> Talked<&'a Answer> {
        loop {
            let token = self.token()?;
            let answer = self.ask(make(&token))?;
            match answer {
                Answer::Reply(reply) if reply.status == 401 => {
                    if self.renewed {
                        return Err(Halt::Failed(refused_key("a new token is refused as well")));
                    }
                    self.renewed = true;
                    self.token = None;
                }
                _ => return Ok(answer),
            }
        }
    }

    fn fetch(&mut self, id: &str) -> Talked<Option<Link>> {
        let answer = self.link(|token| self.payu.fetch_link(id, token))?;
        let document = match said(answer) {
            Said::Done(document) => document,
            // "Get Single Payment Link", failure: "paymentLink not found".
            Said::Refused { reason, .. } if says(&reason, "not found") => return Ok(None),
            other => return Err(Halt::Failed(harmless(other))),
        };
        match document.get("result").and_then(Link::read) {
            Some(link) if link.invoice == id => Ok(Some(link)),
            _ => Err(unavailable("the answer is not the payment link")),
        }
    }
}

/// What PayU's link API said: `{status: 0 | -1, message, result, errorCode, guid}`.
enum Said {
    Done(Value),
    Refused {
        code: String,
        reason: String,
    },
    /// Nothing happened, and it may be asked again.
    Again(CallError),
    /// It may have acted.
    Unclear(String),
}

fn said(answer: &Answer) -> Said {
    let reply = match answer {
        Answer::NotSent(reason) => return Said::Again(again(reason)),
        Answer::Lost(reason) => return Said::Unclear(quotable(reason)),
        Answer::Reply(reply) => reply,
    };
    if reply.status == 429 {
        return Said::Again(CallError::Unavailable {
            reason: "too many calls".to_owned(),
            retry_after: reply.retry_after,
        });
    }
    let document = reply.json();
    let envelope = document
        .as_ref()
        .and_then(|d| Some((d, d.get("status")?.as_i64()?)));
    match envelope {
        Some((document, 0)) if reply.ok() => Said::Done(document.clone()),
        // With which HTTP status refusals come is not documented.
        Some((document, status)) if status != 0 && !is_doubtful(reply, document) => Said::Refused {
            code: document
                .get("errorCode")
                .and_then(Value::as_i64)
                .map_or_else(|| "refused".to_owned(), |code| code.to_string()),
            reason: quotable(&text(document, "message").unwrap_or_default()),
        },
        _ if reply.status == 403 => Said::Refused {
            code: CREDENTIALS.to_owned(),
            reason: "the client may not do this".to_owned(),
        },
        _ if (400..500).contains(&reply.status) && reply.status != 408 => Said::Refused {
            code: format!("http_{}", reply.status),
            reason: format!("HTTP status {}", reply.status),
        },
        _ => Said::Unclear(format!("HTTP status {}", reply.status)),
    }
}

/// A server error that does not say what it means may have happened after the deed.
fn is_doubtful(reply: &HttpReply, document: &Value) -> bool {
    let message = text(document, "message").unwrap_or_default();
    reply.status >= 500 && !says(&message, "already exists") && !says(&message, "not found")
}

/// The same for a question: asking again is harmless.
fn harmless(said: Said) -> CallError {
    match said {
        Said::Done(_) => again("unexpected"),
        Said::Refused { code, reason } => CallError::Rejected { code, reason },
        Said::Again(error) => error,
        Said::Unclear(reason) => again(&reason),
    }
}

/// Our code for refused keys, whatever the vendor calls it.
const CREDENTIALS: &str = "gateway_credentials";

fn refused_key(reason: &str) -> CallError {
    CallError::Rejected {
        code: CREDENTIALS.to_owned(),
        reason: reason.to_owned(),
    }
}

fn rejected(code: &str, reason: &str) -> Halt {
    Halt::Failed(CallError::Rejected {
        code: code.to_owned(),
        reason: reason.to_owned(),
    })
}

fn again(reason: &str) -> CallError {
    CallError::Unavailable {
        reason: quotable(reason),
        retry_after: None,
    }
}

fn unavailable(reason: &str) -> Halt {
    Halt::Failed(again(reason))
}

fn unknown(reason: &str) -> Halt {
    Halt::Failed(CallError::Unknown {
        reason: reason.to_owned(),
    })
}

/// Looking failed after something may have happened: a clear refusal stays one, everything else leaves the doubt.
fn in_doubt<T>(talked: Talked<T>, doubt: &str) -> Talked<T> {
    talked.map_err(|halt| match halt {
        Halt::Failed(CallError::Rejected { code, reason }) if code != CREDENTIALS => {
            Halt::Failed(CallError::Rejected { code, reason })
        }
        Halt::Failed(error) => unknown(&format!("{doubt}; then {error}")),
        call @ Halt::Call(_) => call,
    })
}

// ---- Links ----

/// "Get Single Payment Link", result.
struct Link {
    invoice: String,
    url: Option<String>,
    closed: Option<Closed>,
    total: Option<Paise>,
    collected: bool,
    udf1: Option<String>,
    expires_at: Option<Millis>,
}

impl Link {
    fn read(value: &Value) -> Option<Self> {
        // "Payment Links", key concepts: active, inactive (deactivated by the merchant), expired (past its date, or paid as often as
        // it may be). What a creation answers has no status.
        let inactive = value.get("active").and_then(Value::as_bool) == Some(false);
        let closed = match text(value, "status").as_deref() {
            Some("expired") => Some(Closed::Expired),
            Some("inactive") => Some(Closed::Canceled),
            _ if inactive => Some(Closed::Canceled),
            _ => None,
        };
        Some(Self {
            invoice: text(value, "invoiceNumber")?,
            // Customers are sent there, so it has to be an address of the web; the samples have plain http.
            url: text(value, "paymentLink")
                .filter(|url| url.starts_with("https://") || url.starts_with("http://")),
            closed,
            total: value.get("totalAmount").and_then(money),
            collected: value
                .get("totalAmountCollected")
                .and_then(money)
                .is_some_and(|amount| amount > Paise::ZERO),
            udf1: value.get("udf").and_then(|udf| text(udf, "udf1")),
            expires_at: text(value, "expiryDate").and_then(|t| read_time(&t)),
        })
    }

    /// Its `udf1` speaks of this bill. Without one, the invoice number has to do; it names tenant and bill as well.
    fn is_of(&self, reference: &ReferenceId) -> bool {
        self.udf1.as_deref().is_none_or(|udf1| {
            let (named, _) = udf1.split_once(MARK).unwrap_or((udf1, ""));
            named == reference.as_str()
        })
    }

    fn started(&self, request: &PaymentRequest) -> Option<Started> {
        Some(Started {
            id: self.invoice.clone(),
            link: self.url.clone()?,
            expires_at: self.expires_at.unwrap_or(request.expires_at),
            extra: None,
        })
    }
}

/// Rupees as text or as a JSON number. A number's own text is read, never its value: with up to fifteen digits it is the text that
/// was sent, but for zeros at its end.
fn money(value: &Value) -> Option<Paise> {
    match value {
        Value::String(text) => Paise::parse_decimal(text.trim()),
        Value::Number(number) => Paise::parse_decimal(&number.to_string()),
        _ => None,
    }
}

/// A link of this number that can be used instead of a new one. One that cannot be used is an error.
fn usable(payu: &Payu, link: Option<Link>, request: &PaymentRequest) -> Talked<Option<Started>> {
    let Some(link) = link else {
        return Ok(None);
    };
    if !payu.made(&link, &request.reference) {
        return Err(rejected(
            "link_other_reference",
            "the link belongs to another reference",
        ));
    }
    if link.collected {
        return Err(rejected(
            "link_paid",
            "a link of this reference is paid already",
        ));
    }
    match link.closed {
        Some(Closed::Canceled) => {
            return Err(rejected(
                "link_canceled",
                "the link of this reference was canceled",
            ));
        }
        Some(Closed::Expired) => {
            return Err(rejected(
                "link_expired",
                "the link of this reference has expired",
            ));
        }
        None => {}
    }
    if link.total != Some(request.amount) {
        return Err(rejected(
            "link_other_amount",
            "a link of this reference asks for another amount",
        ));
    }
    match link.started(request) {
        Some(started) => Ok(Some(started)),
        None => Err(unknown("the link found has no address")),
    }
}

/// Between a bill's number and what marks it; no number has one.
const MARK: char = ':';

impl Payu {
    /// What names a bill in everything PayU tells of a link's payments: its number, and who it is that says so.
    fn udf1(&self, reference: &ReferenceId) -> String {
        match self.proofs.named_mark(reference) {
            Some(mark) => format!("{reference}{MARK}{mark}"),
            None => reference.to_string(),
        }
    }

    /// Whether we made this link. Nothing else is ever given to a customer.
    fn made(&self, link: &Link, reference: &ReferenceId) -> bool {
        let Some(udf1) = &link.udf1 else {
            return names::is_of(self.proofs.tenant(), &link.invoice);
        };
        udf1.split_once(MARK).is_some_and(|(named, mark)| {
            named == reference.as_str()
                && matches!(self.proofs.whose(reference, mark), Whose::Ours(_))
        })
    }

    fn start_link(&self, request: &PaymentRequest, answers: &[Answer]) -> Talked<Started> {
        let talk = &mut Talk::new(self, request.now, answers);
        if request.maybe_exists {
            let link = talk.fetch(&request.order_id)?;
            if let Some(started) = usable(self, link, request)? {
                return Ok(started);
            }
        }
        let mut doubt: Option<String> = None;
        // An invoice number is taken once, so creating again after finding nothing cannot make a second link. Once is enough.
        for _ in 0..2 {
            let made = talk.link(|token| self.create_link(request, token));
            let made = match &doubt {
                Some(doubt) => in_doubt(made, doubt)?,
                None => made?,
            };
            let why = match said(made) {
                Said::Done(document) => {
                    let link = document.get("result").and_then(Link::read);
                    let fits = |link: &Link| {
                        link.invoice == request.order_id && link.total == Some(request.amount)
                    };
                    match link.filter(fits).and_then(|link| link.started(request)) {
                        Some(started) => return Ok(started),
                        None => "the new link could not be read".to_owned(),
                    }
                }
                // "Create a Payment Link API", failure.
                Said::Refused { reason, .. } if says(&reason, "already exists") => {
                    let why = "the invoice number is taken";
                    let link = in_doubt(talk.fetch(&request.order_id), why)?;
                    return in_doubt(usable(self, link, request), why)?.ok_or_else(|| {
                        unknown("the invoice number is taken, but no link is shown")
                    });
                }
                Said::Unclear(why) => why,
                // Nothing happened this time; what happened the time before is as open as it was.
                other if doubt.is_none() => return Err(Halt::Failed(harmless(other))),
                other => harmless(other).to_string(),
            };
            let link = in_doubt(talk.fetch(&request.order_id), &why)?;
            if let Some(started) = in_doubt(usable(self, link, request), &why)? {
                return Ok(started);
            }
            if talk.left() < 2 {
                return Err(unknown(&why));
            }
            doubt = Some(why);
        }
        Err(unknown(doubt.as_deref().unwrap_or_default()))
    }

    fn lookup_link(&self, request: &LookupRequest, answers: &[Answer]) -> Talked<Found> {
        let talk = &mut Talk::new(self, request.now, answers);
        let id = request.gateway_id.as_deref().unwrap_or(&request.order_id);
        let Some(link) = talk.fetch(id)? else {
            return match request.gateway_id {
                None => Ok(Found::default()),
                Some(_) => Err(rejected(
                    "link_unusable",
                    "PayU does not know the link it made",
                )),
            };
        };
        // A link that is recorded is ours whatever became of the tenant's secrets since; one that is found has to show it.
        let is_ours = match request.gateway_id {
            Some(_) => link.is_of(&request.reference),
            None => self.made(&link, &request.reference),
        };
        if !is_ours {
            return Err(rejected(
                "link_other_reference",
                "the link belongs to another reference",
            ));
        }
        let answer =
            talk.link(|token| self.link_payments(id, request.created_at, request.now, token))?;
        let attempts = match said(answer) {
            Said::Done(document) => attempts(&document, link.total)
                .ok_or_else(|| unavailable("the answer is not a list of payments"))?,
            other => return Err(Halt::Failed(harmless(other))),
        };
        let mut reports = Vec::new();
        for attempt in attempts {
            if attempt.status != AttemptStatus::Captured {
                reports.push(attempt);
                continue;
            }
            // The list has what is settled, not what was paid, and does not tell authorised from captured.
            let answer = talk.ask(self.command(
                "payu.check_payment",
                "check_payment",
                &attempt.payment_id,
                &[],
            ))?;
            let details = transactions(answer).map_err(Halt::Failed)?;
            let details = details.as_ref().filter(|d| d.is_object());
            reports.push(
                details
                    .and_then(report)
                    .filter(|report| report.payment_id == attempt.payment_id)
                    .ok_or_else(|| unavailable("a payment on the link could not be read"))?,
            );
        }
        let money = |r: &PaymentReport| r.status.moves_money();
        let paid = reports.iter().any(money);
        if link.collected && !paid {
            return Err(unavailable("a paid link without a payment on it"));
        }
        Ok(Found {
            // A link that is paid is closed as well, and then that is not what closed it.
            closed: link.closed.filter(|_| !paid),
            reports,
            refunds: Vec::new(),
        })
    }

    /// A payment made inside WhatsApp is looked for under the reference of its message. That WhatsApp hands it on as `txnid` is not
    /// documented, so finding nothing proves nothing; the caller knows.
    fn lookup_native(&self, request: &LookupRequest, answers: &[Answer]) -> Talked<Found> {
        let talk = &mut Talk::new(self, request.now, answers);
        let txnid = request.reference.as_str();
        let answer = talk.ask(self.command("payu.verify_payment", "verify_payment", txnid, &[]))?;
        let details = transactions(answer).map_err(Halt::Failed)?;
        let reports = match details.as_ref().and_then(|d| d.get(txnid)) {
            // "Verify Payment API", failure: both are "Not Found".
            Some(entry) if text(entry, "status").as_deref() == Some("Not Found") => Vec::new(),
            Some(entry) => {
                vec![report(entry).ok_or_else(|| unavailable("the payment could not be read"))?]
            }
            None => Vec::new(),
        };
        Ok(Found {
            reports,
            ..Found::default()
        })
    }

    fn cancel_link(&self, request: &LookupRequest, answers: &[Answer]) -> Talked<Canceled> {
        let talk = &mut Talk::new(self, request.now, answers);
        let id = request.gateway_id.as_deref().unwrap_or(&request.order_id);
        let link = match talk.fetch(id)? {
            Some(link) => link,
            // Nobody was ever given a link we do not know the id of.
            None if request.gateway_id.is_none() => return Ok(Canceled::Closed),
            None => {
                return Err(rejected(
                    "link_unusable",
                    "PayU does not know the link it made",
                ));
            }
        };
        if let Some(canceled) = ended(&link, &request.reference)? {
            return Ok(canceled);
        }
        let answer = talk.link(|token| self.deactivate_link(id, token))?;
        let refusal = match said(answer) {
            Said::Again(error) => return Err(Halt::Failed(error)),
            Said::Done(_) => again("the link stayed open"),
            other => harmless(other),
        };
        // Also after a yes: it may have been paid in between.
        let link = talk
            .fetch(id)?
            .ok_or_else(|| Halt::Failed(refusal.clone()))?;
        ended(&link, &request.reference)?.ok_or(Halt::Failed(refusal))
    }
}

/// What a closed link means for a cancellation.
fn ended(link: &Link, reference: &ReferenceId) -> Talked<Option<Canceled>> {
    if !link.is_of(reference) {
        return Err(rejected(
            "link_other_reference",
            "the link belongs to another reference",
        ));
    }
    Ok(if link.collected {
        Some(Canceled::AlreadyPaid)
    } else {
        link.closed.map(|_| Canceled::Closed)
    })
}

/// "Get Transaction Details API", result.data: transactionId, status, createdOn, mode. The amount is the link's, because a link of
/// ours takes its whole amount or nothing. Attempts that never got an id have no consequence.
fn attempts(document: &Value, asked: Option<Paise>) -> Option<Vec<PaymentReport>> {
    let rows = document.pointer("/result/data")?.as_array()?;
    let mut found = Vec::new();
    for row in rows {
        let status = attempt_status(&text(row, "status")?, None);
        match row.get("transactionId").and_then(id) {
            Some(payment_id) => found.push(PaymentReport {
                paid_in_full: None,
                fee: None,
                offer: None,
                status,
                payment_id,
                amount: asked?,
                currency: "INR".to_owned(),
                method: method(row),
                error: None,
                at: text(row, "createdOn").and_then(|t| read_time(&t)),
            }),
            None if status == AttemptStatus::Captured => return None,
            None => {}
        }
    }
    Some(found)
}

/// `transaction_details` of postservice's answers. Asking is harmless, so every failure to do so may be repeated.
fn transactions(answer: &Answer) -> Result<Option<Value>, CallError> {
    let document = match answer {
        Answer::NotSent(reason) | Answer::Lost(reason) => return Err(again(reason)),
        Answer::Reply(reply) if reply.ok() => reply
            .json()
            .ok_or_else(|| again("the answer is not JSON"))?,
        Answer::Reply(reply) => {
            return Err(CallError::Unavailable {
                reason: format!("HTTP status {}", reply.status),
                retry_after: reply.retry_after,
            });
        }
    };
    match document.get("transaction_details") {
        Some(details) => Ok(Some(details.clone())),
        None => {
            let reason = quotable(&text(&document, "msg").unwrap_or_default());
            // The words for a wrong hash or key are not documented; the one seen is "Invalid Hash.".
            if says(&reason, "invalid hash") || says(&reason, "invalid key") {
                Err(refused_key(&reason))
            } else {
                Err(again(&reason))
            }
        }
    }
}

/// What PayU says of the sums of a transaction. `amount` (`amt`) is what was asked for ("Collect Additional Charges": "The original
/// transaction amount"), `additional_charges` is what PayU adds to it, `discount` what an instant discount takes off, and
/// `net_amount_debit` what the customer paid ("Refunds for Offers": "the net debit amount"). A cashback comes later and is no part of it.
fn sums(
    report: PaymentReport,
    asked: Paise,
    charges: Option<Paise>,
    discount: Option<Paise>,
    debited: Option<Paise>,
) -> PaymentReport {
    let some = |amount: Option<Paise>| amount.filter(|amount| *amount > Paise::ZERO);
    // Without the sum debited nobody knows an instant discount from a cashback.
    let (fee, offer) = (some(charges), some(discount).filter(|_| debited.is_some()));
    let adds_up = asked
        .checked_add(fee.unwrap_or(Paise::ZERO))
        .and_then(|all| all.checked_sub(offer.unwrap_or(Paise::ZERO)))
        .filter(|all| some(debited).is_none_or(|debited| debited == *all));
    // Sums that do not add up explain nothing.
    match adds_up {
        Some(amount) if report.status == AttemptStatus::Captured && amount != asked => {
            PaymentReport {
                amount,
                fee,
                offer,
                ..report
            }
            .paying(asked)
        }
        _ => report,
    }
}

/// A transaction of "Verify Payment API" or "Check Payment API".
fn report(entry: &Value) -> Option<PaymentReport> {
    let unmapped = text(entry, "unmappedstatus");
    let status = attempt_status(&text(entry, "status")?, unmapped.as_deref());
    let asked = money(
        entry
            .get("amt")
            .or_else(|| entry.get("transaction_amount"))?,
    )?;
    let named = |names: &[&str]| names.iter().find_map(|name| money(entry.get(name)?));
    let report = PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status,
        payment_id: id(entry.get("mihpayid")?)?,
        amount: asked,
        currency: "INR".to_owned(),
        method: method(entry),
        error: failure(status, text(entry, "error_code").or(unmapped)),
        at: text(entry, "addedon").and_then(|t| read_time(&t)),
    };
    Some(sums(
        report,
        asked,
        named(&CHARGES),
        named(&["disc", "discount"]),
        named(&["net_amount_debit"]),
    ))
}

/// PayU's id, a text or a number.
fn id(value: &Value) -> Option<String> {
    let id = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).then_some(id)
}

fn failure(status: AttemptStatus, code: Option<String>) -> Option<String> {
    // E000 is "No Error".
    code.filter(|code| status == AttemptStatus::Failed && code != "E000")
        .map(|code| quotable(&code))
}

/// `mode` of "Webhook Events and Sample Payloads" and the payment APIs.
fn method(entry: &Value) -> Option<String> {
    text(entry, "mode").map(|mode| method_of(&mode))
}

fn method_of(mode: &str) -> String {
    match mode {
        "UPI" | "SBQR" | "DBQR" => "upi".to_owned(),
        "CC" | "DC" => "card".to_owned(),
        "NB" => "netbanking".to_owned(),
        "CASH" => "wallet".to_owned(),
        other => quotable(&other.to_lowercase()),
    }
}

/// "Payment State Explanations": the attempt is over, whichever of the two fields says so. What a bank had agreed to goes back
/// (`autoRefund`).
const OVER: [&str; 12] = [
    "failure",
    "failed",
    "usercancelled",
    "usercanceled",
    "cancelled",
    "canceled",
    "bounced",
    "dropped",
    "autorefund",
    "autorefunded",
    "voided",
    "expired",
];

/// "Payment State Explanations". What it does not name is no money yet: somebody asks again.
fn attempt_status(status: &str, unmapped: Option<&str>) -> AttemptStatus {
    // "userCancelled", "User Cancelled", "in progress".
    let letters = |word: &str| -> String {
        word.chars()
            .filter(char::is_ascii_alphabetic)
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let (status, unmapped) = (letters(status), letters(unmapped.unwrap_or_default()));
    match (status.as_str(), unmapped.as_str()) {
        ("success", "" | "captured") => AttemptStatus::Captured,
        ("success", "auth") => AttemptStatus::Authorized,
        (status, unmapped) if OVER.contains(&status) || OVER.contains(&unmapped) => {
            AttemptStatus::Failed
        }
        // pending: initiated, in progress.
        _ => AttemptStatus::Pending,
    }
}

// ---- Refunds ----

/// What became of asking for a refund.
enum Asked {
    Taken(RefundReport),
    Failed(CallError),
    /// The token or the refund is known already, or nobody knows: look. This is the answer when nothing is shown.
    Look(CallError),
}

/// "Refund Transaction API" and "Error Codes for Refund Initiation". Everything that was accepted is pending, whatever its code, also
/// 100, because "The error_code value 102 should be treated as a success" speaks of the request; the money's way is asked for. Only a
/// failure that is known to be one frees the money: the list grows from copy to copy, and some of its failures are none.
fn asked(answer: &Answer, request: &RefundRequest) -> Asked {
    let unknown = |reason: &str| {
        Asked::Look(CallError::Unknown {
            reason: format!("{}; no refund of this token is shown", quotable(reason)),
        })
    };
    let document = match answer {
        Answer::NotSent(reason) => return Asked::Failed(again(reason)),
        Answer::Lost(reason) => return unknown(reason),
        Answer::Reply(reply) if reply.status == 429 => {
            return Asked::Failed(CallError::Unavailable {
                reason: "too many calls".to_owned(),
                retry_after: reply.retry_after,
            });
        }
        Answer::Reply(reply) if reply.ok() => match reply.json() {
            Some(document) => document,
            None => return unknown("the answer is not JSON"),
        },
        Answer::Reply(reply) => return unknown(&format!("HTTP status {}", reply.status)),
    };
    let coded = document.get("error_code").filter(|code| !code.is_null());
    let code = coded.and_then(id);
    let said = quotable(&text(&document, "msg").unwrap_or_default());
    let status = document.get("status").and_then(id);
    let accepted = status.as_deref() == Some("1");
    let denied = status.as_deref() == Some("0");
    let pending = || {
        Asked::Taken(RefundReport {
            status: RefundStatus::Pending,
            id: document.get("request_id").and_then(id),
            name: Some(request.token.clone()),
            payment_id: request.payment_id.clone(),
            amount: request.amount,
            speed: None,
            bank_reference: None,
            error: None,
            at: None,
        })
    };
    let rejected = |code: &str| CallError::Rejected {
        code: code.to_owned(),
        reason: said.clone(),
    };
    if accepted {
        return pending();
    }
    let short = |obstacle| CallError::NotNow {
        obstacle,
        reason: said.clone(),
    };
    match code.as_deref() {
        Some("100" | "101" | "102" | "112" | "122" | "126" | "127" | "226") => pending(),
        // Token already exists; already logged; same amount and same token.
        Some(code @ ("106" | "109" | "227")) => Asked::Look(CallError::Unknown {
            reason: format!("{}; no refund of this token is shown", rejected(code)),
        }),
        // "Overdraft has occurred. Kindly recheck the status tomorrow": PayU may have kept it until the shop's balance covers it.
        // Asked for again under its token, it is the same refund.
        Some("225") => Asked::Look(short(Obstacle::InsufficientBalance)),
        // Same amount within five minutes.
        Some("214") => Asked::Failed(CallError::Unavailable {
            reason: said,
            retry_after: u32::try_from(SAME_AMOUNT_PAUSE).ok(),
        }),
        // Transaction lock could not be obtained.
        Some("120") => Asked::Failed(again(&said)),
        code => match (code, Obstacle::told_by(&said)) {
            (Some(code), Some(obstacle)) if REFUND_REFUSED.contains(&code) => {
                Asked::Failed(short(obstacle))
            }
            (Some(code), None) if REFUND_REFUSED.contains(&code) => Asked::Failed(rejected(code)),
            // A code of no list, or none, with words that leave no doubt what is missing. Whether PayU kept it they do not say.
            (_, Some(obstacle)) => Asked::Look(short(obstacle)),
            (Some(code), None) => unknown(&format!("code {code}: {said}")),
            (None, None) if says(&said, "limit") => Asked::Failed(again(&said)),
            (None, None) if says(&said, "invalid hash") || says(&said, "invalid key") => {
                Asked::Failed(refused_key(&said))
            }
            // "Parameter missing": the question was not understood. Other words may mean anything.
            (None, None) if denied && coded.is_none() && says(&said, "missing") => {
                Asked::Failed(rejected("refused"))
            }
            (None, None) => unknown(&format!(
                "neither a status nor a code that says why: {said}"
            )),
        },
    }
}

/// "Check Refund Status API": `transaction_details` is either a text for what was not found, or request ids under the id asked for.
fn refunds(answer: &Answer) -> Result<Vec<RefundReport>, CallError> {
    let details = transactions(answer)?;
    let unreadable = || again("the answer is not a list of refunds");
    let outer = details
        .as_ref()
        .and_then(Value::as_object)
        .ok_or_else(unreadable)?;
    let mut found = Vec::new();
    for entries in outer.values() {
        match entries {
            // "No action status found".
            Value::String(_) => {}
            Value::Object(entries) => {
                for (request_id, entry) in entries {
                    if text(entry, "action").as_deref() == Some("refund") {
                        found.push(refund_report(request_id, entry).ok_or_else(unreadable)?);
                    }
                }
            }
            _ => return Err(unreadable()),
        }
    }
    Ok(found)
}

/// One refund of "Check Refund Status API", or of "Refund Status Callback".
fn refund_report(request_id: &str, entry: &Value) -> Option<RefundReport> {
    let status = refund_status(&text(entry, "status")?);
    Some(RefundReport {
        status,
        id: Some(request_id.to_owned()).filter(|id| !id.is_empty()),
        name: text(entry, "token"),
        payment_id: id(entry.get("mihpayid")?)?,
        amount: money(entry.get("amt")?)?,
        speed: match text(entry, "refund_mode").as_deref() {
            Some("Back to Source") => Some(Speed::Normal),
            Some(mode) if mode.starts_with("Instant") => Some(Speed::Instant),
            _ => None,
        },
        bank_reference: entry.get("bank_arn").and_then(bank_reference),
        error: text(entry, "remark")
            .filter(|_| status == RefundStatus::Failed)
            .map(|remark| quotable(&remark)),
        at: None,
    })
}

/// A bank's number, a text or a JSON number; what is neither letters nor digits is none.
fn bank_reference(value: &Value) -> Option<String> {
    let number = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let fits =
        (1..=45).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then_some(number)
}

/// "Check Refund Status API", refund states; their case differs between samples.
fn refund_status(word: &str) -> RefundStatus {
    match word.trim().to_lowercase().as_str() {
        "success" => RefundStatus::Processed,
        "failure" | "failed" => RefundStatus::Failed,
        // queued, requested, in progress, pending, od_hit.
        _ => RefundStatus::Pending,
    }
}

impl Payu {
    fn find_refund(
        &self,
        talk: &mut Talk<'_>,
        request: &RefundRequest,
    ) -> Talked<Option<RefundReport>> {
        let answer = talk.ask(self.refunds_call(&request.payment_id))?;
        let refunds = refunds(answer).map_err(Halt::Failed)?;
        let ours = |refund: &RefundReport| {
            refund.payment_id == request.payment_id
                && (refund.name.as_deref() == Some(&request.token)
                    || (refund.id.is_some() && refund.id == request.gateway_refund_id))
        };
        Ok(refunds.into_iter().find(ours))
    }

    fn ask_for_refund(&self, request: &RefundRequest, answers: &[Answer]) -> Talked<RefundReport> {
        let talk = &mut Talk::new(self, request.now, answers);
        let doubt = match asked(talk.ask(self.refund_call(request))?, request) {
            Asked::Taken(report) => return Ok(report),
            Asked::Failed(error) => return Err(Halt::Failed(error)),
            Asked::Look(doubt) => doubt,
        };
        match self.find_refund(talk, request) {
            Ok(Some(report)) => Ok(report),
            // The token is known but not shown, or the request may still be on its way.
            Ok(None) => Err(Halt::Failed(doubt)),
            Err(Halt::Failed(error)) => Err(unknown(&format!("{doubt}; then {error}"))),
            Err(call) => Err(call),
        }
    }
}

// ---- Webhooks ----

/// A form, decoded, in its sequence. Values are bytes: the hash is over what they are, not over what they mean.
struct Form(Vec<(Vec<u8>, Vec<u8>)>);

/// How a webhook's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Form,
    Json,
}

fn body_of(raw: &RawWebhook) -> Option<Body> {
    let kind = raw.header("content-type")?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Some(Body::Form)
    } else if kind.eq_ignore_ascii_case("application/json") {
        Some(Body::Json)
    } else {
        None
    }
}

impl Form {
    fn of(raw: &RawWebhook) -> Option<Self> {
        match body_of(raw)? {
            Body::Form => Some(Self::read(&raw.body)),
            Body::Json => Self::in_json(&raw.body),
        }
    }

    /// The same fields as JSON. The hash covers their texts, so a number counts as it is written: `850.00` is not `850.0`.
    fn in_json(body: &[u8]) -> Option<Self> {
        let mended = lenient::mended(body);
        let pairs = members(&mended)?
            .into_iter()
            .filter_map(|(name, value, place)| {
                let value = match value {
                    Value::Null => return None,
                    Value::String(text) => text.into_bytes(),
                    _ => mended.get(place)?.to_vec(),
                };
                Some((name.into_bytes(), value))
            });
        Some(Self(pairs.collect()))
    }

    fn read(body: &[u8]) -> Self {
        let decoded = |bytes: &[u8]| -> Vec<u8> {
            let spaced: Vec<u8> = bytes
                .iter()
                .map(|b| if *b == b'+' { b' ' } else { *b })
                .collect();
            percent_decode(&spaced).collect()
        };
        let pairs = body.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let mut halves = pair.splitn(2, |b| *b == b'=');
                    let name = halves.next().unwrap_or_default();
                    (decoded(name), decoded(halves.next().unwrap_or_default()))
                })
                .collect(),
        )
    }

    fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(n, _)| n == name.as_bytes()).count()
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name.as_bytes())?;
        Some(value)
    }

    /// A value that is there and is text.
    fn text(&self, name: &str) -> Option<&str> {
        let value = std::str::from_utf8(self.bytes(name)?).ok()?.trim();
        (!value.is_empty()).then_some(value)
    }
}

/// What the hash covers, in its sequence after salt, status and five empty places.
const HASHED: [&str; 11] = [
    "udf5",
    "udf4",
    "udf3",
    "udf2",
    "udf1",
    "email",
    "firstname",
    "productinfo",
    "amount",
    "txnid",
    "key",
];
/// PayU's surcharge has two spellings: the first in its SDKs, the second in its newer documents.
const CHARGES: [&str; 2] = ["additionalCharges", "additional_charges"];

impl Payu {
    /// sha512(\[charges|\]salt|status||||||udf5|udf4|udf3|udf2|udf1|email|firstname|productinfo|amount|txnid|key), as npm
    /// payu-websdk 1.3.1 and PyPI payu-websdk 0.1.7 compute it. They differ about charges that are there but empty.
    fn proof(&self, form: &Form) -> Option<Proof> {
        // Two readers may disagree about which of two values counts.
        let names = HASHED.iter().chain(&CHARGES).chain(&["status", "hash"]);
        let mut names = names.copied();
        if names.any(|name| form.count(name) > 1) || form.bytes("key") != Some(self.key.as_bytes())
        {
            return None;
        }
        let mut tail = b"|".to_vec();
        tail.extend(form.bytes("status").unwrap_or_default());
        tail.extend(b"|||||");
        for name in HASHED {
            tail.push(b'|');
            tail.extend(form.bytes(name).unwrap_or_default());
        }
        let charges: Vec<&[u8]> = CHARGES.iter().filter_map(|name| form.bytes(name)).collect();
        let mut heads: Vec<Vec<u8>> = charges.iter().map(|c| [c, &b"|"[..]].concat()).collect();
        if charges.iter().all(|c| c.is_empty()) {
            heads.push(Vec::new());
        }
        let mut expected = Vec::new();
        // "Payment Links", webhooks: the client secret takes the salt's place in the hashes of links' payments.
        let secrets = self.salts.iter().chain([&self.client_secret]);
        for salt in secrets.filter(|s| !s.expose_secret().is_empty()) {
            for head in &heads {
                let message = [head, salt.expose_secret().as_bytes(), &tail].concat();
                expected.push(signature::sha512_hex(&message));
            }
        }
        let presented = std::str::from_utf8(form.bytes("hash")?).ok()?;
        signature::one_of(&expected, presented)
    }

    /// Whose payment it is, and under which name. `Err` says why it is nobody's here.
    fn named(&self, form: &Form) -> Result<ReferenceId, &'static str> {
        let reference = |name: &str| ReferenceId::parse(name).ok();
        let udf1 = form.text("udf1").unwrap_or_default();
        if let Some((named, mark)) = udf1.split_once(MARK)
            && let Some(named) = reference(named)
        {
            match self.proofs.whose(&named, mark) {
                Whose::Ours(_) => return Ok(named),
                Whose::Others => return Err("a payment of another tenant of this account"),
                Whose::Nobodys => {}
            }
        }
        if !self.native
            && let Some(named) = reference(udf1)
        {
            return Ok(named);
        }
        let txnid = form.text("txnid").unwrap_or_default();
        if self.native || names::is_of(self.proofs.tenant(), txnid) {
            return reference(txnid).ok_or("a payment that names no bill of ours");
        }
        Err("a payment that names no bill of ours")
    }

    fn read_payment(&self, form: &Form) -> Result<Vec<Signal>, Unreadable> {
        let missing = |name: &str| Unreadable(format!("no readable {name}"));
        let reference = match self.named(form) {
            Ok(reference) => reference,
            Err(why) => return foreign(why),
        };
        let status = form.text("status").ok_or_else(|| missing("status"))?;
        let status = attempt_status(status, form.text("unmappedstatus"));
        let payment_id = form.text("mihpayid").map(Value::from);
        let sum = |name: &str| form.text(name).and_then(Paise::parse_decimal);
        let asked = sum("amount").ok_or_else(|| missing("amount"))?;
        let report = PaymentReport {
            paid_in_full: None,
            fee: None,
            offer: None,
            status,
            payment_id: payment_id
                .as_ref()
                .and_then(id)
                .ok_or_else(|| missing("mihpayid"))?,
            amount: asked,
            currency: "INR".to_owned(),
            method: form.text("mode").map(method_of),
            error: failure(status, form.text("error").map(str::to_owned)),
            at: form.text("addedon").and_then(read_time),
        };
        let charges = CHARGES.iter().find_map(|name| sum(name));
        Ok(vec![Signal::Payment {
            reference,
            report: sums(
                report,
                asked,
                charges,
                sum("discount"),
                sum("net_amount_debit"),
            ),
            // The payment's id and `unmappedstatus` are outside the hash; see the head of this file.
            trust: Trust::Hint,
        }])
    }
}

/// "Refund Status Callback". It has the payment's number only.
fn read_refund(payu: &Payu, body: &[u8]) -> Result<Vec<Signal>, Unreadable> {
    let document =
        lenient::parse(body).map_err(|error| Unreadable(format!("not JSON: {error}")))?;
    if text(&document, "action").as_deref() != Some("refund") {
        return ignored("an unsigned webhook that is not about a refund");
    }
    let named = text(&document, "merchantTxnId").unwrap_or_default();
    let named = named.trim();
    let is_ours = payu.native || names::is_of(payu.proofs.tenant(), named);
    let Some(reference) = ReferenceId::parse(named).ok().filter(|_| is_ours) else {
        return foreign("a refund that names no bill of ours");
    };
    let request_id = document.get("request_id").and_then(id).unwrap_or_default();
    let report = refund_report(&request_id, &document)
        .ok_or_else(|| Unreadable("a refund without id, amount or status".to_owned()))?;
    Ok(vec![Signal::Refund {
        reference,
        report,
        trust: Trust::Hint,
    }])
}

impl Webhooks for Payu {
    fn name(&self) -> &'static str {
        "payu"
    }

    /// "Webhook Events and Sample Payloads": payments are forms with a hash, or JSON with the same fields. "Refund Status Callback":
    /// JSON without one; it is let through unsigned when its address has the tenant's `callback_token` and it names our key, which
    /// everybody who ever paid knows.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
        let kind = body_of(&raw).ok_or(Refused::Missing)?;
        let form = Form::of(&raw).ok_or(Refused::Mismatch)?;
        if form.count("hash") > 0 {
            let proof = self.proof(&form).ok_or(Refused::Mismatch)?;
            return Ok(VerifiedWebhook::new(raw, proof));
        }
        if kind == Body::Json {
            return match form.text("key") {
                Some(key) if key == self.key => {
                    VerifiedWebhook::unsigned(raw, self.callback_token.as_ref())
                }
                Some(_) => Err(Refused::Mismatch),
                None => Err(Refused::Missing),
            };
        }
        Err(Refused::Missing)
    }

    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
        if !webhook.is_signed() {
            return read_refund(self, webhook.body());
        }
        let form = Form::of(webhook.raw()).ok_or_else(|| Unreadable("no form".to_owned()))?;
        self.read_payment(&form)
    }

    /// HTTP 200; the body is not looked at.
    fn acknowledgement(&self) -> &'static str {
        "ok"
    }

    fn challenge(&self, _raw: &RawWebhook) -> Option<String> {
        None
    }
}

impl Gateway for Payu {
    /// "Create a Payment Link API", invoiceNumber: alphanumeric.
    fn order_id(&self, reference: &ReferenceId) -> ReferenceId {
        names::name(self.proofs.tenant(), reference, LONGEST_ORDER_ID)
    }

    fn check(&self, bill: &Bill, _mode: PaymentMode, _expires_in: i64) -> Vec<Fault> {
        let mut faults = Vec::new();
        if bill.total.get() < SMALLEST_AMOUNT {
            faults.push(Fault::new(
                "/total_amount",
                "too_small",
                format!("must be at least {SMALLEST_AMOUNT} paise, PayU's minimum"),
            ));
        }
        faults
    }

    fn start(&self, request: &PaymentRequest, answers: &[Answer]) -> Step<Started> {
        step(self.start_link(request, answers))
    }

    fn lookup(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Found> {
        step(match request.mode {
            PaymentMode::PaymentGateway => self.lookup_native(request, answers),
            PaymentMode::PaymentLink | PaymentMode::UpiIntent => self.lookup_link(request, answers),
        })
    }

    fn cancel(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Canceled> {
        step(match request.mode {
            PaymentMode::PaymentGateway => Err(Halt::Failed(CallError::Unsupported(
                "PayU cannot end a checkout inside WhatsApp",
            ))),
            PaymentMode::PaymentLink | PaymentMode::UpiIntent => self.cancel_link(request, answers),
        })
    }

    /// A link is a link.
    fn pay_form(&self, _request: &PaymentRequest, _started: &Started) -> Option<PayForm> {
        None
    }

    fn check_refund(&self, request: &RefundRequest) -> Vec<Fault> {
        let mut faults = Vec::new();
        // "Refund Transaction API" has no speed. A shop that promises its customer money at once must hear that it will not be.
        if request.speed == Speed::Instant {
            faults.push(Fault::new(
                "/speed",
                "impossible",
                "PayU offers no choice of speed; leave it out",
            ));
        }
        let early = |at: &Millis| request.now.seconds_since(*at) < SAME_AMOUNT_PAUSE;
        if request.same_amount_at.as_ref().is_some_and(early) {
            faults.push(Fault::new(
                "/amount",
                "too_soon",
                "PayU refunds the same amount of the same payment once in five minutes",
            ));
        }
        faults
    }

    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport> {
        step(self.ask_for_refund(request, answers))
    }

    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        let talk = &mut Talk::new(self, request.now, answers);
        step(match self.find_refund(talk, request) {
            // What it once gave an id it does not forget; saying "none" would have it asked for again.
            Ok(None) if request.gateway_refund_id.is_some() => {
                Err(unavailable("PayU does not show the refund it took"))
            }
            found => found,
        })
    }
}

fn ignored(text: &str) -> Result<Vec<Signal>, Unreadable> {
    Ok(vec![Signal::Ignored(text.to_owned())])
}

fn foreign(text: &str) -> Result<Vec<Signal>, Unreadable> {
    Ok(vec![Signal::Foreign(text.to_owned())])
}

fn says(reason: &str, words: &str) -> bool {
    reason.to_ascii_lowercase().contains(words)
}

fn text(value: &Value, name: &str) -> Option<String> {
    value
        .get(name)?
        .as_str()
        .filter(|t| !t.trim().is_empty())
        .map(str::to_owned)
}
