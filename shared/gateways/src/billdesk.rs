//! BillDesk v2: UPI intents, its hosted payment page behind a page of ours, refunds.
//!
//! Documents: docs.billdesk.io, "Headers & Authentication", "Create Order", "Create Transaction", "Retrieve Transaction", "Create
//! Refund", "Retrieve Refund", "Refunds", "Neo – Full Redirect"; Meta, "Billdesk Payment Gateway Integration Guide" (Nov 2025).
//!
//! What shapes this file:
//! - Everything is a signed token, and with encryption agreed on an encrypted one inside it (`billdesk/jose.rs`), answers and errors
//!   too. An answer that says yes counts only when its signature is right; a no may come as plain JSON, because a caller whose keys
//!   or address are refused cannot be sent a token.
//! - Their hosted page is entered by a form POST, so the customer's link is our own page, which posts that form.
//! - `BD-Traceid` "would fail" when it comes twice within 24 hours. For what may be asked twice it is new each time; for a refund it
//!   belongs to the refund, so that BillDesk itself turns a repetition down.
//! - What an answer that was lost would have shown cannot be asked for again: an order's form data are told once. As nobody can pay
//!   what nobody was shown, another order is made under another name ([`BillDesk::again`]); it carries the bill's number like the
//!   first. An order without an answer can take no money.
//! - The portal sends webhooks for every transaction of the merchant, also those of its web shop and of other tenants that share the
//!   account, and an order id there may be one of our bill numbers. So our orders' names are made of tenant and bill (`names.rs`), and
//!   our transactions carry a mark with a proof in it ([`chatbill_domain::proof`]). With the mark a webhook is believed by itself.
//!   Without it, one about an order of ours counts if it is the one we were given; everything else is somebody else's.

mod jose;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chatbill_domain::bill::Bill;
use chatbill_domain::connector::{Gateway, Signal, Trust, Webhooks};
use chatbill_domain::contact::quotable;
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Method, Obstacle, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::json::Fields;
use chatbill_domain::lenient;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Found, LookupRequest, PayForm, PaymentMode, PaymentReport,
    PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::proof::{BillProofs, Whose};
use chatbill_domain::signature::sha256;
use chatbill_domain::tenant::{self, PaymentSettings};
use chatbill_domain::time::Millis;
use chatbill_domain::upi::UpiIntent;
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::{format_description, offset};

use crate::names;
use jose::{Encryption, Jose, KEY_BYTES};

/// "Ace – SDK", prerequisites: production is api.billdesk.com.
const BASE_URL: &str = "https://api.billdesk.com";
const CREATE_ORDER: &str = "/payments/ve1_2/orders/create";
const CREATE_TRANSACTION: &str = "/payments/ve1_2/transactions/create";
const RETRIEVE_TRANSACTION: &str = "/payments/ve1_2/transactions/get";
const CREATE_REFUND: &str = "/payments/ve1_2/refunds/create";
const RETRIEVE_REFUND: &str = "/payments/ve1_2/refunds/get";
/// "Create Order", currency: "for INR this value will be 356".
const RUPEES: &str = "356";
/// "Create Order": the item code has "a default value DIRECT".
const ITEM_CODE: &str = "DIRECT";
/// "Create Order", additional_info: seven values. The last is ours, the others are the merchant's.
const MARK: &str = "additional_info7";
/// Between a bill's number and what proves it; no number has one, and refunds' names may have it ("Create Refund").
const PROVEN_BY: char = ':';
/// All names of a bill's orders begin with its first one.
const LONGEST_ORDER_ID: usize = 26;
/// "Refunds", validity: transactions through a saved token 180 days, guest checkouts 90. A UPI intent knows no tokens; which of the
/// two a payment on the hosted page was is not told, so there the longer one holds.
const REFUNDABLE_DAYS: i64 = 180;
const REFUNDABLE_DAYS_GUEST: i64 = 90;
/// Our code for refused keys, whatever the vendor calls it.
const CREDENTIALS: &str = "gateway_credentials";

/// Standard base64 with or without its padding: Meta's guide prints an intent whose length does not come out.
const INTENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

struct BillDesk {
    base: String,
    merchant: String,
    item_code: String,
    bank: Option<String>,
    callback_token: Option<SecretString>,
    jose: Jose,
    /// In mode `upi_intent`.
    payee: Option<Payee>,
    proofs: BillProofs,
    /// Native checkout: WhatsApp makes the transactions, not we.
    native: bool,
}

/// What WhatsApp's payment configuration says of the merchant, and every intent must.
struct Payee {
    vpa: String,
    category: String,
    name: String,
}

pub(crate) fn open(settings: &PaymentSettings) -> Result<Box<dyn Gateway>, Vec<Fault>> {
    let account = &settings.account;
    let intent = settings.mode == PaymentMode::UpiIntent;
    let gateway = account.credentials.read("/payment/credentials", |f| {
        let merchant = f.required_text("merchant_id", 64);
        let client = f.required_text("client_id", 64);
        let security = f.required("security").and_then(|_| {
            f.parsed("security", |text| match text.as_str() {
                "jose" => Ok(true),
                "hmac" => Ok(false),
                _ => Err("jose or hmac"),
            })
        });
        let encrypted = security == Some(true);
        let signing = f
            .required("signing_key")
            .and_then(|_| keys(f, "signing_key"));
        let signing_id = wanted(f, "signing_key_id", encrypted);
        let encryption = encryption(f, encrypted);
        let vpa = wanted(f, "vpa", intent);
        let category = wanted(f, "merchant_category", intent);
        let name = wanted(f, "merchant_name", intent);
        let item_code = f.text("item_code", 64);
        let bank = f.text("bank_id", 64);
        let callback_token = tenant::callback_token(f);
        if vpa.as_ref().is_some_and(|vpa| !vpa.contains('@')) {
            f.fault("vpa", "invalid", "must be a UPI address, name@bank");
        }
        let payee = match (intent, vpa, category, name) {
            (true, Some(vpa), Some(category), Some(name)) => Some(Payee {
                vpa,
                category,
                name,
            }),
            (true, ..) => return None,
            (false, ..) => None,
        };
        Some(BillDesk {
            base: account
                .base_url
                .clone()
                .unwrap_or_else(|| BASE_URL.to_owned()),
            merchant: merchant?,
            item_code: item_code.unwrap_or_else(|| ITEM_CODE.to_owned()),
            bank,
            callback_token: callback_token?,
            jose: Jose {
                client: client?,
                signing: signing?,
                signing_id,
                encryption: if security? { Some(encryption?) } else { None },
            },
            payee,
            proofs: settings.proofs.clone(),
            native: settings.mode == PaymentMode::PaymentGateway,
        })
    })?;
    Ok(Box::new(gateway))
}

/// A text that one mode needs and the others may have.
fn wanted<'a>(f: &mut Fields<'a>, name: &'a str, needed: bool) -> Option<String> {
    if needed {
        f.required_text(name, 64)
    } else {
        f.text(name, 64)
    }
}

/// One secret, or a list of them, current first, while BillDesk still uses the previous one.
fn keys<'a>(f: &mut Fields<'a>, name: &'a str) -> Option<Vec<SecretString>> {
    match f.value(name)? {
        Value::Array(_) => tenant::secrets(f, name),
        _ => tenant::secret(f, name).map(|key| vec![key]),
    }
}

fn encryption(f: &mut Fields<'_>, needed: bool) -> Option<Encryption> {
    if needed {
        f.required("encryption_key");
    }
    let keys = keys(f, "encryption_key");
    let id = wanted(f, "encryption_key_id", needed);
    let fits = |key: &SecretString| key.expose_secret().len() == KEY_BYTES;
    if keys.iter().flatten().any(|key| !fits(key)) {
        f.fault(
            "encryption_key",
            "invalid",
            "must have 32 characters: A256GCM",
        );
        return None;
    }
    Some(Encryption {
        keys: keys?,
        id: id?,
    })
}

impl BillDesk {
    /// A name for one more order of the same bill: at most 35 letters and digits, never one used before.
    fn again(request: &PaymentRequest, turn: usize) -> String {
        let (first, at) = (&request.order_id, base36(request.now.seconds()));
        format!("{first}r{at}t{turn}")
    }

    /// The name of this tenant's bill that an order is called by, the first one or a later one; those have capitals and digits only.
    fn first_name<'a>(&self, order: &'a str) -> Option<&'a str> {
        let (first, _) = order.split_once('r').unwrap_or((order, ""));
        names::is_of(self.proofs.tenant(), first).then_some(first)
    }

    /// Whether an order of this name is this bill's.
    fn is_of(&self, order: &str, reference: &ReferenceId) -> bool {
        self.first_name(order) == Some(self.order_id(reference).as_str())
    }

    fn call(
        &self,
        label: &'static str,
        path: &str,
        now: Millis,
        trace: String,
        body: &Value,
    ) -> Option<HttpCall> {
        let token = self.jose.seal(body.to_string().as_bytes(), &trace)?;
        Some(HttpCall {
            label,
            method: Method::Post,
            url: format!("{}{path}", self.base),
            // The token proves who calls.
            authorization: None,
            secret_header: None,
            headers: vec![
                ("Accept", "application/jose".to_owned()),
                ("BD-Traceid", trace),
                ("BD-Timestamp", timestamp(now)),
            ],
            body: Some(("application/jose".to_owned(), token.into_bytes())),
        })
    }

    /// `why` keeps questions apart that are asked about the same thing in the same moment.
    fn retrieve(&self, why: &str, key: (&str, &str), now: Millis, turn: usize) -> Option<HttpCall> {
        let mut body = json!({"mercid": self.merchant, "refund_details": true});
        insert(&mut body, key.0, key.1);
        let label = "billdesk.retrieve_transaction";
        let (at, turn) = (now.get().to_string(), turn.to_string());
        let trace = trace(&[label, why, key.1, &at, &turn]);
        self.call(label, RETRIEVE_TRANSACTION, now, trace, &body)
    }

    /// Where BillDesk posts what became of a transaction. What it posts is signed; the token is for whoever filters by address.
    fn reports_to(&self, request: &PaymentRequest) -> String {
        let address = &request.webhook_url;
        match &self.callback_token {
            Some(token) => {
                let token = utf8_percent_encode(token.expose_secret(), NON_ALPHANUMERIC);
                format!("{address}?token={token}")
            }
            None => address.clone(),
        }
    }

    fn create_order(&self, request: &PaymentRequest, name: &str, turn: usize) -> Option<HttpCall> {
        let mut body = json!({
            "mercid": self.merchant,
            "orderid": name,
            "amount": request.amount.decimal(),
            "order_date": india(request.now),
            "currency": RUPEES,
            "ru": request.return_url,
            "itemcode": self.item_code,
            "additional_info": self.marked(request),
        });
        // Optional here. An address that is not IPv4 would be refused, and the bill with it.
        if let Some(device) = &request.device
            && device.ip.parse::<std::net::Ipv4Addr>().is_ok()
        {
            let device = json!({
                "init_channel": "internet",
                "ip": device.ip,
                "user_agent": device.user_agent,
                "accept_header": "text/html",
            });
            insert(&mut body, "device", device);
        }
        let label = "billdesk.create_order";
        let trace = trace(&[
            label,
            name,
            &request.now.get().to_string(),
            &turn.to_string(),
        ]);
        self.call(label, CREATE_ORDER, request.now, trace, &body)
    }

    fn create_intent(
        &self,
        request: &PaymentRequest,
        device: &Value,
        payee: &Payee,
        name: &str,
        turn: usize,
    ) -> Option<HttpCall> {
        let mut body = json!({
            "mercid": self.merchant,
            "orderid": name,
            "amount": request.amount.decimal(),
            "currency": RUPEES,
            "txn_process_type": "intent",
            "payment_method_type": "upi",
            "itemcode": self.item_code,
            // "Status webhook: BillDesk will post a transaction object to the return URL (ru)". There is no browser in between.
            "ru": self.reports_to(request),
            "wa_mc": payee.category,
            "wa_vpa": payee.vpa,
            "wa_txnid": request.reference.as_str(),
            "wa_mercname": payee.name,
            "additional_info": self.marked(request),
            "device": device,
        });
        if let Some(bank) = &self.bank {
            insert(&mut body, "bankid", bank.as_str());
        }
        let label = "billdesk.create_transaction";
        let trace = trace(&[
            label,
            name,
            &request.now.get().to_string(),
            &turn.to_string(),
        ]);
        self.call(label, CREATE_TRANSACTION, request.now, trace, &body)
    }

    fn create_refund(
        &self,
        request: &RefundRequest,
        transaction: &Transaction,
    ) -> Option<HttpCall> {
        let body = json!({
            "mercid": self.merchant,
            "orderid": transaction.order,
            "transactionid": request.payment_id,
            // Theirs to the letter: "BillDesk transaction date and time".
            "transaction_date": transaction.date,
            "txn_amount": transaction.asked.decimal(),
            "refund_amount": request.amount.decimal(),
            "currency": RUPEES,
            "merc_refund_ref_no": request.token,
        });
        let label = "billdesk.create_refund";
        // The same for this refund for ever: "Requests with identical BD-TraceID within a 24 hour window would fail". Only after a
        // clear no it is another, or the shop would wait a day after topping up its balance.
        let trace = match request.not_now {
            Some(tried) => trace(&[label, &request.token, &tried.to_string()]),
            None => trace(&[label, &request.token]),
        };
        self.call(label, CREATE_REFUND, request.now, trace, &body)
    }

    fn retrieve_refund(&self, request: &RefundRequest, turn: usize) -> Option<HttpCall> {
        let body = json!({"mercid": self.merchant, "merc_refund_ref_no": request.token});
        let label = "billdesk.retrieve_refund";
        let now = request.now.get().to_string();
        let trace = trace(&[label, &request.token, &now, &turn.to_string()]);
        self.call(label, RETRIEVE_REFUND, request.now, trace, &body)
    }

    /// What an answer says, once its token is opened.
    fn said(&self, reply: &HttpReply) -> Said {
        let text = String::from_utf8_lossy(&reply.body);
        let text = text.trim();
        let (document, signed) = match self.jose.open(text) {
            Ok((payload, _)) => (lenient::parse(&payload).ok(), true),
            Err(_) => (lenient::parse(text.as_bytes()).ok(), false),
        };
        let document = document.filter(Value::is_object);
        let error = document
            .as_ref()
            .filter(|d| d.get("error_code").is_some() && d.get("objectid").is_none());
        if reply.ok() && error.is_none() {
            return match document {
                Some(document) if signed => Said::Yes(document),
                _ => Said::Nothing("an answer that is not signed as agreed".to_owned()),
            };
        }
        let field = |name: &str| document.as_ref().and_then(|d| text_of(d, name));
        // Some errors come with 200 and say their status inside.
        let status = match document
            .as_ref()
            .and_then(|d| d.get("status"))
            .and_then(Value::as_u64)
        {
            Some(status) if reply.ok() => u16::try_from(status).unwrap_or(reply.status),
            _ => reply.status,
        };
        Said::No(Denial {
            status,
            // A page of something in front of BillDesk says nothing about what BillDesk knows.
            spoken: document.is_some(),
            code: field("error_code")
                .map_or_else(|| format!("http_{status}"), |code| quotable(&code)),
            reason: quotable(&field("message").unwrap_or_else(|| format!("HTTP status {status}"))),
            retry_after: reply.retry_after,
        })
    }

    /// The answer to a harmless question: `None` when BillDesk knows of no such thing. Every failure to ask may be repeated.
    fn answered(&self, answer: &Answer) -> Result<Option<Value>, CallError> {
        match answer {
            Answer::NotSent(reason) | Answer::Lost(reason) => Err(unavailable(reason)),
            Answer::Reply(reply) => match self.said(reply) {
                Said::Yes(document) => Ok(Some(document)),
                Said::Nothing(reason) => Err(unavailable(&reason)),
                Said::No(denial) if denial.is_unknown() => Ok(None),
                Said::No(denial) => Err(match denial.error() {
                    CallError::Unknown { reason } => unavailable(&reason),
                    error => error,
                }),
            },
        }
    }

    /// A transaction that was asked for by one of its names.
    fn transaction(
        &self,
        answer: &Answer,
        key: (&str, &str),
    ) -> Result<Option<Transaction>, CallError> {
        let Some(document) = self.answered(answer)? else {
            return Ok(None);
        };
        let same = |name: &str, wanted: &str| text_of(&document, name).as_deref() == Some(wanted);
        if !same("mercid", &self.merchant) || !same(key.0, key.1) {
            return Err(unavailable("the answer speaks of another transaction"));
        }
        match Transaction::read(&document) {
            Some(transaction) => Ok(Some(transaction)),
            None => Err(unavailable("the answer is not a transaction")),
        }
    }

    /// Where a payment is looked for. The id of a started payment is the order's name where a page of ours leads to the payment, and
    /// BillDesk's own where it is an intent.
    fn key(&self, request: &LookupRequest) -> (&'static str, String) {
        match (&request.gateway_id, request.mode) {
            (Some(id), PaymentMode::UpiIntent) => ("transactionid", id.clone()),
            (Some(id), _) => ("orderid", id.clone()),
            (None, PaymentMode::PaymentGateway) => ("orderid", request.reference.to_string()),
            (None, _) => ("orderid", request.order_id.clone()),
        }
    }

    fn start_order(&self, request: &PaymentRequest, answers: &[Answer]) -> Step<Started> {
        let mut answers = answers.iter();
        let mut doubt = String::new();
        for turn in 0..2 {
            let name = if turn == 0 && !request.maybe_exists {
                request.order_id.clone()
            } else {
                Self::again(request, turn)
            };
            let Some(answer) = answers.next() else {
                return call(self.create_order(request, &name, turn));
            };
            match self.made(answer, |document| self.order(document, request, &name)) {
                Made::Done(started) => return Step::done(started),
                Made::Failed(error) => return Step::failed(error),
                Made::Unclear(reason) => doubt = reason,
            }
        }
        Step::failed(CallError::Unknown { reason: doubt })
    }

    fn start_intent(&self, request: &PaymentRequest, answers: &[Answer]) -> Step<Started> {
        let Some(payee) = &self.payee else {
            return Step::failed(CallError::Unsupported(
                "UPI intents without vpa, merchant_category and merchant_name",
            ));
        };
        let mut answers = answers.iter();
        let mut name = request.order_id.clone();
        let mut look = request.maybe_exists;
        let mut doubt = String::new();
        for turn in 0..2 {
            if look {
                let key = ("orderid", name.as_str());
                let Some(answer) = answers.next() else {
                    return call(self.retrieve("start", key, request.now, turn));
                };
                match self.transaction(answer, key) {
                    Ok(None) => {}
                    Ok(Some(found)) if !self.is_ours(&found, &request.reference) => {
                        // Somebody else's: the name is taken.
                        name = Self::again(request, turn);
                    }
                    Ok(Some(found)) => {
                        if found.report.status == AttemptStatus::Captured {
                            return Step::failed(paid_already());
                        }
                        let shown = found.report.status == AttemptStatus::Pending;
                        match self.intent(&found.document, request, payee) {
                            Ok(Some(started)) if shown => return Step::done(started),
                            Err(error) if shown => return Step::failed(error),
                            // It has ended, or its intent is not shown again: nobody was given it.
                            _ => name = Self::again(request, turn),
                        }
                    }
                    Err(error) if doubt.is_empty() => return Step::failed(error),
                    Err(error) => return after_doubt(error, &doubt),
                }
            }
            let Some(device) = device(request) else {
                // The bill is posted again by the till, or not at all; a clean-up has no device.
                return Step::failed(unavailable(
                    "BillDesk wants the address and user agent of the device the bill is posted from; post the same bill again",
                ));
            };
            let Some(answer) = answers.next() else {
                return call(self.create_intent(request, &device, payee, &name, turn));
            };
            let read = |document: &Value| self.new_intent(document, request, payee, &name);
            match self.made(answer, read) {
                Made::Done(started) => return Step::done(started),
                Made::Failed(error) => return Step::failed(error),
                Made::Unclear(reason) => doubt = reason,
            }
            look = true;
        }
        Step::failed(CallError::Unknown { reason: doubt })
    }

    /// Reads the answer to a call that makes something. `read` gives `Ok(None)` for what it cannot read.
    fn made(
        &self,
        answer: &Answer,
        read: impl FnOnce(&Value) -> Result<Option<Started>, CallError>,
    ) -> Made {
        let reply = match answer {
            Answer::NotSent(reason) => return Made::Failed(unavailable(reason)),
            Answer::Lost(reason) => return Made::Unclear(quotable(reason)),
            Answer::Reply(reply) => reply,
        };
        match self.said(reply) {
            Said::Yes(document) => match read(&document) {
                Ok(Some(started)) => Made::Done(started),
                Ok(None) => Made::Unclear("what was made could not be read".to_owned()),
                Err(error) => Made::Failed(error),
            },
            Said::Nothing(reason) => Made::Unclear(reason),
            // Perhaps we were here before, perhaps the merchant's web shop uses this name.
            Said::No(denial) if denial.is_taken() => Made::Unclear(denial.reason),
            Said::No(denial) => match denial.error() {
                CallError::Unknown { reason } => Made::Unclear(reason),
                error => Made::Failed(error),
            },
        }
    }

    /// A new order: `links` has one with `rel` "redirect" that says where the customer's browser is to post what.
    fn order(
        &self,
        document: &Value,
        request: &PaymentRequest,
        name: &str,
    ) -> Result<Option<Started>, CallError> {
        let same = |field: &str, wanted: &str| text_of(document, field).as_deref() == Some(wanted);
        if !same("mercid", &self.merchant)
            || !same("orderid", name)
            || amount_of(document, "amount") != Some(request.amount)
        {
            return Ok(None);
        }
        let Some(redirect) = list(document, "links")
            .find(|link| text_of(link, "rel").as_deref() == Some("redirect"))
        else {
            return Ok(None);
        };
        let href = text_of(redirect, "href").filter(|url| is_web(url));
        let fields = redirect.get("parameters").and_then(Value::as_object);
        let (Some(href), Some(fields)) = (href, fields.filter(|f| f.contains_key("rdata"))) else {
            return Ok(None);
        };
        let fields: Map<String, Value> = fields
            .iter()
            .filter(|(_, value)| value.is_string())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Ok(Some(Started {
            id: name.to_owned(),
            link: request.pay_url.clone(),
            expires_at: request.expires_at,
            extra: Some(json!({"href": href, "fields": fields}).to_string()),
        }))
    }

    fn new_intent(
        &self,
        document: &Value,
        request: &PaymentRequest,
        payee: &Payee,
        name: &str,
    ) -> Result<Option<Started>, CallError> {
        let same = |field: &str, wanted: &str| text_of(document, field).as_deref() == Some(wanted);
        if !same("mercid", &self.merchant) || !same("orderid", name) {
            return Ok(None);
        }
        // 0399: it has failed before anybody saw it.
        if let Some(Transaction { report, .. }) = Transaction::read(document)
            && report.status == AttemptStatus::Failed
        {
            return Err(CallError::Rejected {
                code: report.error.unwrap_or_else(|| "0399".to_owned()),
                reason: quotable(
                    &text_of(document, "transaction_error_desc")
                        .unwrap_or_else(|| "the transaction failed".to_owned()),
                ),
            });
        }
        self.intent(document, request, payee)
    }

    /// The intent of a transaction, checked: nobody may be shown one that pays somebody else, or another amount. "The value of pa …
    /// must match the VPA on the payment_configuration", and WhatsApp's `reference_id` is the transaction's `wa_txnid`.
    fn intent(
        &self,
        document: &Value,
        request: &PaymentRequest,
        payee: &Payee,
    ) -> Result<Option<Started>, CallError> {
        let (Some(id), Some(encoded)) = (
            text_of(document, "transactionid"),
            text_of(document, "intent"),
        ) else {
            return Ok(None);
        };
        let wrong = |reason: &str| {
            Err(CallError::Rejected {
                code: "intent_mismatch".to_owned(),
                reason: format!("BillDesk's intent {reason}"),
            })
        };
        let text = INTENT
            .decode(&encoded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(intent) = text.and_then(|text| UpiIntent::parse(&text)) else {
            return wrong("is not a UPI address");
        };
        let amount = |name: &str| intent.get(name).map(Paise::parse_decimal);
        if !intent
            .get("pa")
            .is_some_and(|pa| pa.eq_ignore_ascii_case(&payee.vpa))
        {
            return wrong("pays another account");
        }
        if intent.get("cu") != Some("INR") || amount("am") != Some(Some(request.amount)) {
            return wrong("asks for another amount");
        }
        // A smaller `mam` would let the payer choose.
        if amount("mam").is_some_and(|least| least != Some(request.amount)) {
            return wrong("lets the customer pay less");
        }
        if text_of(document, "wa_txnid").as_deref() != Some(request.reference.as_str()) {
            return wrong("belongs to another bill");
        }
        Ok(Some(Started {
            id,
            link: intent.text().to_owned(),
            expires_at: request.expires_at,
            extra: None,
        }))
    }

    /// The merchant's own values, and the bill's number with its proof, which decide which bill a payment belongs to.
    fn marked(&self, request: &PaymentRequest) -> Value {
        let extras = request.bill.extras.iter();
        let mut info: Map<String, Value> = extras
            .filter(|(name, _)| name.starts_with("additional_info"))
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let reference = &request.reference;
        let mark = match self.proofs.named_mark(reference) {
            Some(proof) => format!("{reference}{PROVEN_BY}{proof}"),
            None => reference.to_string(),
        };
        info.insert(MARK.to_owned(), mark.into());
        Value::Object(info)
    }

    /// What the mark of a transaction says.
    fn mark(&self, document: &Value) -> Mark {
        let Some(mark) = document
            .get("additional_info")
            .and_then(|info| text_of(info, MARK))
        else {
            return Mark::None;
        };
        let (named, proof) = mark.split_once(PROVEN_BY).unwrap_or((&mark, ""));
        let Ok(reference) = ReferenceId::parse(named) else {
            return Mark::None;
        };
        match self.proofs.whose(&reference, proof) {
            Whose::Ours(_) => Mark::Proven(reference),
            Whose::Others => Mark::Others,
            // In native checkout the seventh value is the merchant's own.
            Whose::Nobodys if self.native => Mark::None,
            Whose::Nobodys => Mark::Says(reference),
        }
    }

    /// Which bill a webhook is about, and how far it is to be believed. `Err` says why it is none of ours.
    fn named(
        &self,
        document: &Value,
        transaction: &Transaction,
    ) -> Result<(ReferenceId, Trust), &'static str> {
        let order = transaction.order.as_str();
        let mark = self.mark(document);
        let whatsapp = text_of(document, "wa_txnid").and_then(|id| ReferenceId::parse(id).ok());
        match mark {
            Mark::Others => return Err("a transaction of another tenant of this account"),
            Mark::Proven(reference) if self.is_of(order, &reference) => {
                return Ok((reference, Trust::Proven));
            }
            _ => {}
        }
        if let Some(first) = self.first_name(order) {
            // What the order's payment was recorded under: an intent by its transaction, the hosted page by its order.
            let id = if is_intent(document) {
                &transaction.report.payment_id
            } else {
                &transaction.order
            };
            let says = match mark {
                Mark::Proven(reference) | Mark::Says(reference) => Some(reference),
                Mark::None | Mark::Others => whatsapp,
            };
            let named = says.filter(|reference| self.is_of(order, reference));
            let named = named.or_else(|| ReferenceId::parse(first).ok());
            let named = named.ok_or("a transaction that names no bill of ours")?;
            return Ok((named, Trust::OwnLink(id.clone())));
        }
        let says = match mark {
            Mark::Proven(reference) | Mark::Says(reference) => Some(reference),
            _ if self.native => ReferenceId::parse(order).ok(),
            _ => whatsapp,
        };
        says.map(|reference| (reference, Trust::Hint))
            .ok_or("a transaction that names no bill of ours")
    }

    /// Whether a transaction that was found is this bill's, so that it may be taken up.
    fn is_ours(&self, transaction: &Transaction, reference: &ReferenceId) -> bool {
        self.is_of(&transaction.order, reference)
            && match self.mark(&transaction.document) {
                Mark::Proven(marked) => marked == *reference,
                // The name is of our making. Whether such an answer repeats what was sent along is not documented.
                Mark::None => true,
                Mark::Says(_) | Mark::Others => false,
            }
    }

    fn refund_of(&self, document: &Value, request: &RefundRequest) -> Option<RefundReport> {
        let named = text_of(document, "merc_refund_ref_no")? == request.token;
        let ours = text_of(document, "mercid").is_none_or(|merchant| merchant == self.merchant);
        refund(document, &request.payment_id)
            .filter(|report| named && ours && report.payment_id == request.payment_id)
    }
}

impl Gateway for BillDesk {
    /// Letters and digits only: every sample is so, and nothing says that anything else is taken.
    fn order_id(&self, reference: &ReferenceId) -> ReferenceId {
        names::name(self.proofs.tenant(), reference, LONGEST_ORDER_ID)
    }

    /// No smallest amount and no shortest time are documented.
    fn check(&self, _bill: &Bill, _mode: PaymentMode, _expires_in: i64) -> Vec<Fault> {
        Vec::new()
    }

    fn start(&self, request: &PaymentRequest, answers: &[Answer]) -> Step<Started> {
        match request.mode {
            PaymentMode::PaymentLink => self.start_order(request, answers),
            PaymentMode::UpiIntent => self.start_intent(request, answers),
            PaymentMode::PaymentGateway => {
                Step::failed(CallError::Unsupported("links for native checkout"))
            }
        }
    }

    fn lookup(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Found> {
        let (name, value) = self.key(request);
        let key = (name, value.as_str());
        let Some(answer) = answers.first() else {
            return call(self.retrieve("lookup", key, request.now, 0));
        };
        let transaction = match self.transaction(answer, key) {
            Ok(Some(transaction)) => transaction,
            Ok(None) => return Step::done(Found::default()),
            Err(error) => return Step::failed(error),
        };
        // One that is recorded is ours whatever became of the tenant's secrets since; one that is found has to show it.
        let is_ours = match (request.mode, &request.gateway_id) {
            (PaymentMode::PaymentGateway, _) => true,
            (_, Some(_)) => match self.mark(&transaction.document) {
                Mark::Proven(marked) | Mark::Says(marked) => marked == request.reference,
                Mark::None => true,
                Mark::Others => false,
            },
            (_, None) => self.is_ours(&transaction, &request.reference),
        };
        if !is_ours {
            return Step::failed(CallError::Rejected {
                code: "link_other_reference".to_owned(),
                reason: "the transaction belongs to another reference".to_owned(),
            });
        }
        Step::done(Found {
            refunds: refunds(&transaction.document, &transaction.report.payment_id),
            reports: vec![transaction.report],
            closed: None,
        })
    }

    /// There is no call that takes an order or a transaction back. An order is entered through our page only, and that page is
    /// closed with our order; a customer who has theirs open already may still pay, late. An intent is in the customer's hands.
    fn cancel(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Canceled> {
        let (name, value) = self.key(request);
        let key = (name, value.as_str());
        let Some(answer) = answers.first() else {
            return call(self.retrieve("cancel", key, request.now, 0));
        };
        match self.transaction(answer, key) {
            Ok(None) => Step::done(Canceled::Closed),
            Err(error) => Step::failed(error),
            Ok(Some(transaction)) => match transaction.report.status {
                AttemptStatus::Captured => Step::done(Canceled::AlreadyPaid),
                AttemptStatus::Failed => Step::done(Canceled::Closed),
                // Nobody has been shown an intent that is not on record.
                _ if request.mode == PaymentMode::UpiIntent && request.gateway_id.is_none() => {
                    Step::done(Canceled::Closed)
                }
                _ if request.mode == PaymentMode::UpiIntent => {
                    Step::failed(CallError::Unsupported("taking a UPI intent back"))
                }
                _ => Step::failed(CallError::Rejected {
                    code: "payment_under_way".to_owned(),
                    reason: "the customer is paying; BillDesk cannot stop that".to_owned(),
                }),
            },
        }
    }

    /// The redirect link's own parameters, posted to its `href`.
    fn pay_form(&self, _request: &PaymentRequest, started: &Started) -> Option<PayForm> {
        let extra: Value = serde_json::from_str(started.extra.as_deref()?).ok()?;
        let fields = extra.get("fields")?.as_object()?;
        Some(PayForm {
            action: text_of(&extra, "href").filter(|url| is_web(url))?,
            fields: fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
        })
    }

    fn check_refund(&self, request: &RefundRequest) -> Vec<Fault> {
        let mut faults = Vec::new();
        if request.speed == Speed::Instant {
            faults.push(Fault::new(
                "/speed",
                "impossible",
                "BillDesk has no choice of speed; leave it out",
            ));
        }
        let days = match request.mode {
            PaymentMode::UpiIntent => REFUNDABLE_DAYS_GUEST,
            PaymentMode::PaymentLink | PaymentMode::PaymentGateway => REFUNDABLE_DAYS,
        };
        // "Current Date - Transaction Date <= 180 Days".
        let age = day(request.now).saturating_sub(day(request.captured_at));
        if age > days {
            faults.push(Fault::new(
                "",
                "too_old",
                format!(
                    "BillDesk refunds within {days} days of the payment; this one is {age} days old"
                ),
            ));
        }
        faults
    }

    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport> {
        let mut answers = answers.iter();
        // First what BillDesk itself says of the payment: it wants its own order id, date and amount back to the letter.
        let key = ("transactionid", request.payment_id.as_str());
        let Some(answer) = answers.next() else {
            return call(self.retrieve(&request.token, key, request.now, 0));
        };
        let transaction = match self.transaction(answer, key) {
            Ok(Some(transaction)) => transaction,
            Ok(None) => {
                return Step::failed(not_refundable(
                    "refund_no_payment",
                    "BillDesk knows of no such payment",
                ));
            }
            Err(error) => return Step::failed(error),
        };
        if transaction.report.status != AttemptStatus::Captured {
            return Step::failed(not_refundable(
                "refund_not_captured",
                "the payment did not succeed",
            ));
        }
        let known = refunds(&transaction.document, &request.payment_id);
        if let Some(report) = known
            .into_iter()
            .find(|r| r.name.as_deref() == Some(request.token.as_str()))
        {
            return Step::done(report);
        }
        let Some(answer) = answers.next() else {
            return call(self.create_refund(request, &transaction));
        };
        let failure = match answer {
            Answer::NotSent(reason) => return Step::failed(unavailable(reason)),
            Answer::Lost(reason) => CallError::Unknown {
                reason: quotable(reason),
            },
            Answer::Reply(reply) => match self.said(reply) {
                Said::Yes(document) => match self.refund_of(&document, request) {
                    Some(report) => return Step::done(report),
                    None => CallError::Unknown {
                        reason: "the refund could not be read".to_owned(),
                    },
                },
                Said::Nothing(reason) => CallError::Unknown { reason },
                Said::No(denial) if denial.status == 429 => return Step::failed(denial.error()),
                Said::No(denial) => denial.of_refund(),
            },
        };
        // A refusal may mean that the refund was asked for before: which code says so is not documented.
        let Some(answer) = answers.next() else {
            return call(self.retrieve_refund(request, 1));
        };
        match self.answered(answer) {
            Ok(Some(document)) => match self.refund_of(&document, request) {
                Some(report) => Step::done(report),
                None => after_doubt(
                    unavailable("the answer is not this refund"),
                    &failure.to_string(),
                ),
            },
            Ok(None) => Step::failed(failure),
            // What is missing was said clearly, and asking again under its name is safe.
            Err(_) if matches!(failure, CallError::NotNow { .. }) => Step::failed(failure),
            Err(_) if matches!(failure, CallError::Rejected { .. }) => {
                Step::failed(CallError::Unknown {
                    reason: failure.to_string(),
                })
            }
            Err(error) => after_doubt(error, &failure.to_string()),
        }
    }

    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        let Some(answer) = answers.first() else {
            return call(self.retrieve_refund(request, 0));
        };
        match self.answered(answer) {
            Ok(None) => Step::done(None),
            Ok(Some(document)) => match self.refund_of(&document, request) {
                Some(report) => Step::done(Some(report)),
                None => Step::failed(unavailable("the answer is not this refund")),
            },
            Err(error) => Step::failed(error),
        }
    }
}

impl Webhooks for BillDesk {
    fn name(&self) -> &'static str {
        "billdesk"
    }

    /// The body is the token, or a form that carries it; there is nothing else that is signed. What was proven is the token's
    /// payload, so that takes the body's place.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
        let token = token(&raw.body).ok_or(Refused::Missing)?;
        let (payload, proof) = self.jose.open(&token).map_err(|_| Refused::Mismatch)?;
        Ok(VerifiedWebhook::new(
            RawWebhook {
                body: payload,
                ..raw
            },
            proof,
        ))
    }

    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
        let document = lenient::parse(webhook.body())
            .map_err(|error| Unreadable(format!("not JSON: {error}")))?;
        if let Some(object) =
            text_of(&document, "objectid").filter(|object| object != "transaction")
        {
            return ignored(format!("{} is not followed", quotable(&object)));
        }
        if text_of(&document, "mercid").as_deref() != Some(self.merchant.as_str()) {
            return ignored("a transaction of another merchant".to_owned());
        }
        let status = text_of(&document, "auth_status")
            .ok_or_else(|| Unreadable("no auth_status".to_owned()))?;
        if attempt_status(&status).is_none() {
            return ignored(format!(
                "auth_status {} is not documented",
                quotable(&status)
            ));
        }
        let transaction = Transaction::read(&document).ok_or_else(|| {
            Unreadable("a transaction without id, order, amount or currency".to_owned())
        })?;
        let (reference, trust) = match self.named(&document, &transaction) {
            Ok(named) => named,
            Err(why) => return Ok(vec![Signal::Foreign(why.to_owned())]),
        };
        Ok(vec![Signal::Payment {
            reference,
            report: transaction.report,
            trust,
        }])
    }

    /// Not documented; 200 is what public handlers answer.
    fn acknowledgement(&self) -> &'static str {
        "ok"
    }

    fn challenge(&self, _raw: &RawWebhook) -> Option<String> {
        None
    }
}

/// What an answer says.
enum Said {
    /// Signed, and no error.
    Yes(Value),
    /// No, or not now.
    No(Denial),
    /// It cannot be told.
    Nothing(String),
}

/// An error of BillDesk's: `{status, error_type, error_code, message}`.
struct Denial {
    status: u16,
    /// It is BillDesk who says it.
    spoken: bool,
    code: String,
    reason: String,
    retry_after: Option<u32>,
}

impl Denial {
    /// No such thing is there. Which code says so is not documented, so it is known by the status or the words.
    fn is_unknown(&self) -> bool {
        let reason = self.reason.to_ascii_lowercase();
        let words = ["not found", "no record", "does not exist"];
        self.spoken
            && (self.status == 404
                || (matches!(self.status, 400 | 409 | 422)
                    && words.iter().any(|w| reason.contains(w))))
    }

    /// The name is in use. As above, known by its words.
    fn is_taken(&self) -> bool {
        let reason = self.reason.to_ascii_lowercase();
        let words = ["duplicate", "already exist", "already been used"];
        matches!(self.status, 400 | 409 | 422) && words.iter().any(|w| reason.contains(w))
    }

    /// The same for a refund. No list of codes is documented, so what is missing is known by the words.
    fn of_refund(self) -> CallError {
        let obstacle = Obstacle::told_by(&self.reason).or_else(|| Obstacle::told_by(&self.code));
        match obstacle {
            Some(obstacle) if self.spoken && self.status != 401 && self.status != 403 => {
                CallError::NotNow {
                    obstacle,
                    reason: self.reason,
                }
            }
            // It was sent within the last 24 hours, and what became of it then is asked for. If it is not there, it may be sent again
            // when that time is over.
            _ if self.is_repeated() => unavailable(&self.reason),
            _ => self.error(),
        }
    }

    /// "Requests with identical BD-TraceID within a 24 hour window would fail". As above, known by its words.
    fn is_repeated(&self) -> bool {
        let reason = self
            .reason
            .to_ascii_lowercase()
            .replace([' ', '-', '_'], "");
        self.spoken && (400..500).contains(&self.status) && reason.contains("traceid")
    }

    /// `Unknown` stands for "it may have acted".
    fn error(self) -> CallError {
        let Self {
            status,
            code,
            reason,
            retry_after,
            ..
        } = self;
        match status {
            429 => CallError::Unavailable {
                reason,
                retry_after,
            },
            401 | 403 => CallError::Rejected {
                code: CREDENTIALS.to_owned(),
                reason,
            },
            408 => CallError::Unknown { reason },
            400..=499 => CallError::Rejected { code, reason },
            _ => CallError::Unknown { reason },
        }
    }
}

/// What the value that is ours says of a transaction.
enum Mark {
    /// This bill of ours, proven.
    Proven(ReferenceId),
    /// This bill, but so could anybody.
    Says(ReferenceId),
    /// Another tenant's bill.
    Others,
    None,
}

enum Made {
    Done(Started),
    Failed(CallError),
    /// It may or may not have been made.
    Unclear(String),
}

/// A transaction object (Meta's guide, "Status webhook"; "Retrieve Transaction").
struct Transaction {
    order: String,
    /// What it was asked for: the bill.
    asked: Paise,
    date: Option<String>,
    report: PaymentReport,
    document: Value,
}

impl Transaction {
    fn read(document: &Value) -> Option<Self> {
        // One that is not documented may yet turn out well.
        let status =
            attempt_status(&text_of(document, "auth_status")?).unwrap_or(AttemptStatus::Pending);
        let date = text_of(document, "transaction_date");
        let error = || {
            ["transaction_error_code", "transaction_error_desc"]
                .iter()
                .find_map(|name| text_of(document, name))
                .map(|error| quotable(&error))
        };
        // Meta's guide, "Status webhook": the bill is `amount`; `charge_amount` is the "Total charge to the customer", with the
        // `surcharge` on top and the `discount` taken off.
        let asked = amount_of(document, "amount")?;
        let part = |name: &str| amount_of(document, name).filter(|part| *part > Paise::ZERO);
        let charged = part("charge_amount").filter(|_| status == AttemptStatus::Captured);
        let is_other = charged.is_some_and(|charged| charged != asked);
        Some(Self {
            order: text_of(document, "orderid")?,
            asked,
            report: PaymentReport {
                paid_in_full: None,
                fee: part("surcharge").filter(|_| is_other),
                offer: part("discount").filter(|_| is_other),
                status,
                payment_id: text_of(document, "transactionid")?,
                amount: charged.unwrap_or(asked),
                currency: currency(document)?,
                method: text_of(document, "payment_method_type"),
                error: if status == AttemptStatus::Failed {
                    error()
                } else {
                    None
                },
                at: date
                    .as_deref()
                    .filter(|_| !is_intent(document))
                    .and_then(Millis::from_rfc3339),
            }
            .paying(asked),
            date,
            document: document.clone(),
        })
    }
}

/// The answer that makes an intent has its `transaction_date` already: it says when the bill was made, not when it was paid, and
/// money that came after the bill's end would pass for money in time.
fn is_intent(document: &Value) -> bool {
    let kind = text_of(document, "txn_process_type");
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("intent"))
        || ["intent", "wa_txnid"]
            .iter()
            .any(|name| document.get(name).is_some())
}

/// "Retrieve Transaction", status codes. `transaction_error_code` and `…_type` only describe.
fn attempt_status(code: &str) -> Option<AttemptStatus> {
    match code {
        "0300" => Some(AttemptStatus::Captured),
        "0002" => Some(AttemptStatus::Pending),
        "0399" => Some(AttemptStatus::Failed),
        _ => None,
    }
}

/// ISO 4217's number as text, or as a number in one table of Meta's guide. Others are passed on as they are, so that they are held.
fn currency(document: &Value) -> Option<String> {
    let code = match document.get("currency")? {
        Value::String(code) => code.clone(),
        Value::Number(code) => code.to_string(),
        _ => return None,
    };
    Some(if code == RUPEES {
        "INR".to_owned()
    } else {
        code
    })
}

/// "in two decimals": nothing else is an amount here.
fn amount_of(document: &Value, name: &str) -> Option<Paise> {
    let text = text_of(document, name)?;
    Paise::parse_decimal(&text).filter(|amount| amount.decimal() == text)
}

/// The refunds shown along with a transaction. The documents do not name their list, so it is known by what stands in it.
fn refunds(document: &Value, payment: &str) -> Vec<RefundReport> {
    let lists = document.as_object().into_iter().flat_map(Map::values);
    lists
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|entry| refund(entry, payment))
        .collect()
}

/// A refund ("Create Refund", "Refunds"): both documented states mean that the money goes back, 0699 for one before the settlement,
/// 0799 for all others, and none follows them.
fn refund(document: &Value, payment: &str) -> Option<RefundReport> {
    let status = match text_of(document, "refund_status")?.as_str() {
        "0699" | "0799" => RefundStatus::Processed,
        _ => RefundStatus::Pending,
    };
    Some(RefundReport {
        status,
        id: Some(text_of(document, "refundid")?),
        name: text_of(document, "merc_refund_ref_no"),
        payment_id: text_of(document, "transactionid").unwrap_or_else(|| payment.to_owned()),
        amount: amount_of(document, "refund_amount")?,
        speed: None,
        bank_reference: None,
        error: None,
        at: text_of(document, "refund_date")
            .as_deref()
            .and_then(Millis::from_rfc3339),
    })
}

fn device(request: &PaymentRequest) -> Option<Value> {
    let device = request.device.as_ref()?;
    Some(json!({"init_channel": "app", "ip": device.ip, "user_agent": device.user_agent}))
}

/// The token of a webhook: the whole body, or the one field of a form that carries it. Two such fields are none.
fn token(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    if !text.contains('=') {
        let shaped = !text.starts_with('{') && text.contains('.');
        return shaped.then(|| text.to_owned());
    }
    let mut found = text.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        matches!(name, "transaction_response" | "encrypted_response").then_some(value)
    });
    let value = found.next()?;
    if found.next().is_some() {
        return None;
    }
    percent_decode_str(value).decode_utf8().ok().map(Into::into)
}

/// BD-Traceid: 32 letters and digits.
fn trace(parts: &[&str]) -> String {
    hex::encode(
        sha256(parts.join("\0").as_bytes())
            .get(..16)
            .unwrap_or_default(),
    )
}

/// "Headers": `20210113180403` is 13 January 2021, 06:04:03 PM. Indian time.
fn timestamp(now: Millis) -> String {
    written(
        now,
        format_description!("[year][month][day][hour][minute][second]"),
    )
}

/// `YYYY-MM-DDThh:mm:ssTZD` in India.
fn india(now: Millis) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+05:30");
    written(now, format)
}

fn written(now: Millis, format: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
    OffsetDateTime::from_unix_timestamp(now.seconds())
        .ok()
        .and_then(|t| t.to_offset(offset!(+5:30)).format(&format).ok())
        .unwrap_or_default()
}

/// The day in India, counted from 1970.
fn day(at: Millis) -> i64 {
    const INDIA: i64 = 19_800;
    at.plus_seconds(INDIA).seconds().div_euclid(86_400)
}

fn base36(number: i64) -> String {
    let mut rest = number.unsigned_abs();
    let mut digits = Vec::new();
    while rest > 0 {
        let digit = u32::try_from(rest.rem_euclid(36)).unwrap_or_default();
        digits.extend(char::from_digit(digit, 36));
        rest = rest.div_euclid(36);
    }
    digits.iter().rev().collect()
}

/// Customers are sent there; plain http is what a stand-in on this machine has.
fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

fn call<T>(call: Option<HttpCall>) -> Step<T> {
    match call {
        Some(call) => Step::call(call),
        None => Step::failed(unavailable("the request could not be sealed")),
    }
}

fn insert(body: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(body) = body.as_object_mut() {
        body.insert(name.to_owned(), value.into());
    }
}

fn list<'a>(document: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    document
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text_of(document: &Value, name: &str) -> Option<String> {
    document
        .get(name)?
        .as_str()
        .filter(|t| !t.is_empty())
        .map(str::to_owned)
}

fn unavailable(reason: &str) -> CallError {
    CallError::Unavailable {
        reason: quotable(reason),
        retry_after: None,
    }
}

fn paid_already() -> CallError {
    CallError::Rejected {
        code: "link_paid".to_owned(),
        reason: "a transaction of this reference is paid already".to_owned(),
    }
}

fn not_refundable(code: &str, reason: &str) -> CallError {
    CallError::Rejected {
        code: code.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Looking failed after something may have happened: a clear refusal stays one, everything else leaves the doubt.
fn after_doubt<T>(error: CallError, doubt: &str) -> Step<T> {
    Step::failed(match error {
        CallError::Rejected { .. } => error,
        error => CallError::Unknown {
            reason: format!("{doubt}; then {error}"),
        },
    })
}

fn ignored(text: String) -> Result<Vec<Signal>, Unreadable> {
    Ok(vec![Signal::Ignored(text)])
}
