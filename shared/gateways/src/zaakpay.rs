//! Zaakpay (MobiKwik), through its Express Checkout.
//!
//! Documents, all on developer.zaakpay.com: "Web Redirection flow", "Check Transaction Status API", "Update/Refund API", "Webhooks".
//! Checksums follow Zaakpay's own kit (deep-mob/Zaakpay-NodeJs-PGKit at 62ad8bd, lib/checksum.js).
//!
//! What shapes this file:
//! - There is no documented call that makes a link. The customer's browser posts a signed form from our own page, so making a link
//!   is no call at all, and a link stops when our page stops offering the form. A form that is open in a browser by then can still
//!   be paid; such money comes late and follows the shop's policy.
//! - An order number has at most 20 letters and digits, fewer than a bill's number may have, and is unique for one merchant
//!   identifier, which several shops and a web shop may share. So it is a name made of tenant and bill (`names.rs`), and there is no
//!   other field that webhooks bring back and nobody else writes: an order number that is not of this tenant's making is somebody
//!   else's.
//! - One secret signs everything, and the strings it signs have no escaping. The form on our page shows the customer a checksum over
//!   `name=value&…`; what Zaakpay's page posts back through the browser is signed over the same kind of text. So what comes back by
//!   the browser is a hint at most. Webhooks are signed over JSON, which no form's text is.
//! - Webhooks name a transaction `pgTransId`, the status call `txnId`, and no page says that the two are one. Taken for one when they
//!   are not, one payment would be two: paid twice, and the second sent back, which is the only one there is. So webhooks are hints,
//!   although they are signed, and every id of a payment is the status call's. (The webhook after the bank's reconciliation names
//!   neither a transaction nor an outcome anyway.)
//! - A refund names an order, not a transaction. So the status is asked for first, and nothing goes back unless what is shown there is
//!   the one payment that is meant.
//! - Times have no zone. They are India's: order numbers in the samples end in milliseconds since 1970, which agree.

use chatbill_domain::bill::Bill;
use chatbill_domain::connector::{Gateway, Signal, Trust, Webhooks};
use chatbill_domain::contact::quotable;
use chatbill_domain::fault::Fault;
use chatbill_domain::http::{Answer, CallError, HttpCall, HttpReply, Method, Obstacle, Step};
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::lenient;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{
    AttemptStatus, Canceled, Found, LookupRequest, PayForm, PaymentMode, PaymentReport,
    PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::proof::BillProofs;
use chatbill_domain::signature;
use chatbill_domain::tenant::{self, PaymentSettings};
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::members::members;
use crate::names;

/// "Web Redirection flow", environment details: the live server.
const BASE_URL: &str = "https://api.zaakpay.com";
/// The same page, endpoint. A V13 exists without a document.
const CHECKOUT: &str = "/api/paymentTransact/V8";
/// The same page, amount: "Min Value 100 & Max Value 10000000", in paise.
const SMALLEST_AMOUNT: i64 = 100;
const LARGEST_AMOUNT: i64 = 10_000_000;
/// "Split Payment API", orderId: "Max 20 alphanumeric, must be unique per website, we do not accept duplicate".
const LONGEST_ORDER_ID: usize = 20;
/// "Update/Refund API", response codes: those that say that nothing was begun. Any other may mean that it was.
const REFUND_REFUSED: [&str; 18] = [
    "109", "110", "111", "129", "130", "155", "156", "180", "182", "184", "185", "186", "187",
    "189", "190", "191", "201", "846",
];
/// Ours: no limit of productDescription is documented; those of addresses are 100 alphanumeric characters.
const LONGEST_DESCRIPTION: usize = 100;
/// "Update/Refund API", updateReason: "min 5, max 30 alphanumeric characters. no special characters or dashes". The sample has a
/// blank.
const SHORTEST_REASON: usize = 5;
const LONGEST_REASON: usize = 30;
/// "Update/Refund API", code 846: "Transactions older than 6 months cannot be refunded". The longest six months there are.
const REFUNDABLE_SECONDS: i64 = 184 * 24 * 3600;

/// Zaakpay's kit, `getChecksumString`: the fields of a checkout form in the sequence they are signed in; empty ones do not count. The
/// table of "Web Redirection flow" has the same sequence.
const SENT: [&str; 37] = [
    "amount",
    "bankid",
    "buyerAddress",
    "buyerCity",
    "buyerCountry",
    "buyerEmail",
    "buyerFirstName",
    "buyerLastName",
    "buyerPhoneNumber",
    "buyerPincode",
    "buyerState",
    "currency",
    "debitorcredit",
    "merchantIdentifier",
    "merchantIpAddress",
    "mode",
    "orderId",
    "product1Description",
    "product2Description",
    "product3Description",
    "product4Description",
    "productDescription",
    "productInfo",
    "purpose",
    "returnUrl",
    "shipToAddress",
    "shipToCity",
    "shipToCountry",
    "shipToFirstname",
    "shipToLastname",
    "shipToPhoneNumber",
    "shipToPincode",
    "shipToState",
    "showMobile",
    "txnDate",
    "txnType",
    "zpPayOption",
];

/// Zaakpay's kit, `getResponseChecksumString`: the fields of what comes back by the browser, in the sequence they are signed in.
/// Those that are there count, also when they are empty. Fields that newer versions add do not.
const RETURNED: [&str; 20] = [
    "amount",
    "bank",
    "bankid",
    "cardId",
    "cardScheme",
    "cardToken",
    "cardhashid",
    "doRedirect",
    "orderId",
    "paymentMethod",
    "paymentMode",
    "responseCode",
    "responseDescription",
    "productDescription",
    "product1Description",
    "product2Description",
    "product3Description",
    "product4Description",
    "pgTransId",
    "pgTransTime",
];

/// Everything but RFC 3986's unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

struct Zaakpay {
    base: String,
    merchant: String,
    /// Current first; the current one signs.
    secrets: Vec<SecretString>,
    /// The checkout wants an address of the buyer, and a bill has none.
    buyer_email: Option<String>,
    proofs: BillProofs,
    /// Native checkout: WhatsApp makes the orders, not we.
    native: bool,
}

pub(crate) fn open(settings: &PaymentSettings) -> Result<Box<dyn Gateway>, Vec<Fault>> {
    let account = &settings.account;
    let is_link = settings.mode == PaymentMode::PaymentLink;
    let mut faults = Vec::new();
    if settings.mode == PaymentMode::UpiIntent {
        faults.push(Fault::new(
            "/payment/mode",
            "impossible",
            "zaakpay offers payment_link and payment_gateway here, not upi_intent",
        ));
    }
    let read = account.credentials.read("/payment/credentials", |f| {
        let merchant = f.required_text("merchant_identifier", 64);
        let secrets = tenant::secrets(f, "secret_keys");
        // Everything of Zaakpay's is signed; its address may have the token all the same.
        let callback_token = tenant::callback_token(f);
        let email = if is_link {
            f.required_text("buyer_email", 100)
        } else {
            f.text("buyer_email", 100)
        };
        // It stands in what is signed; the documents call it alphanumeric.
        if merchant.as_ref().is_some_and(|m| !alphanumeric(m)) {
            f.fault(
                "merchant_identifier",
                "invalid",
                "must be letters and digits",
            );
        }
        if email.as_ref().is_some_and(|email| !is_address(email)) {
            f.fault("buyer_email", "invalid", "must be a mail address");
        }
        callback_token?;
        Some((merchant?, secrets?, email))
    });
    match read {
        Ok((merchant, secrets, buyer_email)) if faults.is_empty() => Ok(Box::new(Zaakpay {
            base: account
                .base_url
                .clone()
                .unwrap_or_else(|| BASE_URL.to_owned()),
            merchant,
            secrets,
            buyer_email,
            proofs: settings.proofs.clone(),
            native: settings.mode == PaymentMode::PaymentGateway,
        })),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

fn alphanumeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Strict enough that it cannot break out of what is signed.
fn is_address(text: &str) -> bool {
    let plain = |t: &str| {
        !t.is_empty()
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    text.split_once('@')
        .is_some_and(|(name, host)| plain(name) && plain(host) && host.contains('.'))
}

impl Zaakpay {
    /// Zaakpay's kit, `calculateChecksum`: lower-case hex HMAC-SHA256 under the text of the secret.
    fn checksum(&self, text: &str) -> String {
        let secret = self.secrets.first().map_or("", |s| s.expose_secret());
        hex::encode(signature::hmac_sha256(secret.as_bytes(), text.as_bytes()))
    }

    /// The fields of a checkout form and their checksum, over `name=value&` of each.
    fn signed(&self, fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut sorted: Vec<(String, String)> = SENT
            .iter()
            .filter_map(|name| {
                fields
                    .iter()
                    .find(|(n, value)| n == name && !value.is_empty())
            })
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let text: String = sorted
            .iter()
            .map(|(name, value)| format!("{name}={value}&"))
            .collect();
        sorted.push(("checksum".to_owned(), self.checksum(&text)));
        sorted
    }

    /// "Check Transaction Status API" and "Update/Refund API": a form with `data` and the checksum of its text. The vendor's pages
    /// print it once with `data=` in front, but their own value is the one without (vector zaak-s04).
    fn post(&self, label: &'static str, path: &str, data: &str) -> HttpCall {
        let body = format!(
            "data={}&checksum={}",
            utf8_percent_encode(data, STRICT),
            self.checksum(data)
        );
        HttpCall {
            label,
            method: Method::Post,
            url: format!("{}{path}", self.base),
            authorization: None,
            secret_header: None,
            headers: Vec::new(),
            body: Some((
                "application/x-www-form-urlencoded".to_owned(),
                body.into_bytes(),
            )),
        }
    }

    /// "Check Transaction Status API": one order, and one of its refunds if it is named.
    fn check_txn(&self, order_id: &str, refund: Option<&str>) -> HttpCall {
        let mut fields = vec![
            ("merchantIdentifier", quoted(&self.merchant)),
            ("mode", quoted("0")),
            ("orderDetail", object(&[("orderId", quoted(order_id))])),
        ];
        if let Some(name) = refund {
            fields.push(("refundDetail", object(&[("merchantRefId", quoted(name))])));
        }
        self.post("zaakpay.check_txn", "/checkTxn?v=5", &object(&fields))
    }

    /// "Update/Refund API", updateDesired 14 (all of it) or 22 (part of it).
    fn refund_txn(&self, request: &RefundRequest) -> HttpCall {
        let is_full = request.before == Paise::ZERO && request.amount == request.captured;
        let data = object(&[
            ("merchantIdentifier", quoted(&self.merchant)),
            (
                "orderDetail",
                object(&[
                    ("orderId", quoted(number_of_refund(request))),
                    ("amount", quoted(&request.amount.get().to_string())),
                ]),
            ),
            ("mode", quoted("0")),
            ("updateDesired", quoted(if is_full { "14" } else { "22" })),
            ("updateReason", quoted(&reason(request.reason.as_deref()))),
            ("merchantRefId", quoted(&request.token)),
        ]);
        self.post("zaakpay.refund", "/updateTxn", &data)
    }

    /// "Update/Refund API", updateDesired 8: "Authorised to Cancel".
    fn cancel_txn(&self, order_id: &str) -> HttpCall {
        let data = object(&[
            ("merchantIdentifier", quoted(&self.merchant)),
            ("orderDetail", object(&[("orderId", quoted(order_id))])),
            ("mode", quoted("0")),
            ("updateDesired", quoted("8")),
            ("updateReason", quoted("Canceled by the shop")),
        ]);
        self.post("zaakpay.cancel", "/updateTxn", &data)
    }
}

/// A JSON object with its fields in the sequence of the vendor's samples.
fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}:{value}", quoted(name)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What is left of a text where only letters, digits and blanks are taken.
fn plain(text: &str, longest: usize) -> String {
    let spaced: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' })
        .collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let cut: String = words.join(" ").chars().take(longest).collect();
    cut.trim_end().to_owned()
}

fn reason(given: Option<&str>) -> String {
    let reason = plain(given.unwrap_or_default(), LONGEST_REASON);
    if reason.len() < SHORTEST_REASON {
        "Refund by the shop".to_owned()
    } else {
        reason
    }
}

impl Gateway for Zaakpay {
    fn order_id(&self, reference: &ReferenceId) -> ReferenceId {
        names::name(self.proofs.tenant(), reference, LONGEST_ORDER_ID)
    }

    /// Only of our own page: what WhatsApp's checkout does at Zaakpay is not documented.
    fn check(&self, bill: &Bill, mode: PaymentMode, _expires_in: i64) -> Vec<Fault> {
        let mut faults = Vec::new();
        if mode == PaymentMode::PaymentLink && bill.total.get() < SMALLEST_AMOUNT {
            faults.push(Fault::new(
                "/total_amount",
                "too_small",
                format!("must be at least {SMALLEST_AMOUNT} paise, Zaakpay's minimum"),
            ));
        }
        if mode == PaymentMode::PaymentLink && bill.total.get() > LARGEST_AMOUNT {
            faults.push(Fault::new(
                "/total_amount",
                "too_large",
                format!("must be at most {LARGEST_AMOUNT} paise, Zaakpay's maximum"),
            ));
        }
        faults
    }

    /// Our own page is the link; Zaakpay hears of the order when the customer's browser posts the form. So nothing can be lost.
    fn start(&self, request: &PaymentRequest, _answers: &[Answer]) -> Step<Started> {
        Step::done(Started {
            id: request.order_id.clone(),
            link: request.pay_url.clone(),
            expires_at: request.expires_at,
            extra: None,
        })
    }

    fn lookup(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Found> {
        let Some(answer) = answers.first() else {
            return Step::call(self.check_txn(number_of(request), None));
        };
        match self.found(answer, number_of(request)) {
            Ok(found) => Step::done(found),
            Err(error) => Step::failed(error),
        }
    }

    /// There is nothing to close at Zaakpay but a payment that a bank has authorised and nobody has captured.
    fn cancel(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Canceled> {
        let Some(answer) = answers.first() else {
            return Step::call(self.check_txn(number_of(request), None));
        };
        let found = match self.found(answer, number_of(request)) {
            Ok(found) => found,
            Err(error) => return Step::failed(error),
        };
        let has = |found: &Found, status| found.reports.iter().any(|r| r.status == status);
        if has(&found, AttemptStatus::Captured) {
            return Step::done(Canceled::AlreadyPaid);
        }
        if !has(&found, AttemptStatus::Authorized) {
            return Step::done(Canceled::Closed);
        }
        let Some(answer) = answers.get(1) else {
            return Step::call(self.cancel_txn(number_of(request)));
        };
        // "Transaction canceled successfully".
        if self.updated(answer, number_of(request)) == Update::Said("243".to_owned()) {
            return Step::done(Canceled::Closed);
        }
        let Some(answer) = answers.get(2) else {
            return Step::call(self.check_txn(number_of(request), None));
        };
        match self.found(answer, number_of(request)) {
            Ok(found) if has(&found, AttemptStatus::Captured) => Step::done(Canceled::AlreadyPaid),
            Ok(found) if !has(&found, AttemptStatus::Authorized) => Step::done(Canceled::Closed),
            Ok(_) => Step::failed(again("the authorised payment was not canceled")),
            Err(error) => Step::failed(error),
        }
    }

    /// "Web Redirection flow", request attributes. What is optional and personal, as name and phone number, is left out.
    fn pay_form(&self, request: &PaymentRequest, started: &Started) -> Option<PayForm> {
        let buyer_email = self.buyer_email.as_deref()?;
        if request.mode != PaymentMode::PaymentLink {
            return None;
        }
        let amount = request.amount.get().to_string();
        let description = plain(&request.description, LONGEST_DESCRIPTION);
        let fields = [
            ("amount", amount.as_str()),
            ("buyerEmail", buyer_email),
            ("currency", "INR"),
            ("merchantIdentifier", &self.merchant),
            // "0=To skip Domain check".
            ("mode", "0"),
            ("orderId", &started.id),
            ("productDescription", &description),
            ("returnUrl", &request.return_url),
        ];
        Some(PayForm {
            action: format!("{}{CHECKOUT}", self.base),
            fields: self.signed(&fields),
        })
    }

    fn check_refund(&self, request: &RefundRequest) -> Vec<Fault> {
        let mut faults = Vec::new();
        if request.speed == Speed::Instant {
            faults.push(Fault::new(
                "/speed",
                "impossible",
                "Zaakpay refunds in the bank's time only",
            ));
        }
        if request.now.seconds_since(request.captured_at) > REFUNDABLE_SECONDS {
            faults.push(Fault::new(
                "",
                "too_old",
                "the payment is more than six months old; Zaakpay refunds none of those",
            ));
        }
        faults
    }

    /// Through updateTxn: of the two ways it is the one whose codes are documented, and whose printed checksum verifies. Its
    /// `merchantRefId` is our word for this refund: while it is scheduled a second request is refused (codes 20 and 21), afterwards
    /// the status call shows it.
    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport> {
        let Some(answer) = answers.first() else {
            return Step::call(self.check_txn(number_of_refund(request), None));
        };
        match self.refundable(answer, request) {
            Ok(None) => {}
            Ok(Some(report)) => return Step::done(report),
            Err(error) => return Step::failed(error),
        }
        let Some(answer) = answers.get(1) else {
            return Step::call(self.refund_txn(request));
        };
        let (doubt, if_not_shown) = match self.updated(answer, number_of_refund(request)) {
            Update::Failed(error) => return Step::failed(error),
            Update::Unclear(doubt) => (doubt, None),
            Update::Said(code) => match code.as_str() {
                // "Full Refund Success code", "Partial Refund Success code".
                "230" | "245" => return Step::done(scheduled(request)),
                // "Refund scheduled with bank": taken, but not yet shown.
                "19" => (String::new(), Some(scheduled(request))),
                // "already scheduled": this one when it is repeated, or another.
                "20" | "21" => (format!("code {code}: a refund is scheduled already"), None),
                "203" => ("code 203: could not be updated".to_owned(), None),
                // "Not enough unsettled funds available with MobiKwik".
                "843" => {
                    return Step::failed(CallError::NotNow {
                        obstacle: Obstacle::InsufficientBalance,
                        reason: words(&code, answer),
                    });
                }
                code if REFUND_REFUSED.contains(&code) || code == "844" => {
                    return Step::failed(refusal(code, answer));
                }
                // Not in the list, so it may mean that the refund was begun.
                code => (format!("code {code}: {}", words(code, answer)), None),
            },
        };
        let Some(answer) = answers.get(2) else {
            return Step::call(self.check_txn(number_of_refund(request), Some(&request.token)));
        };
        match (self.refund_shown(answer, request), if_not_shown) {
            (Ok(Some(report)), _) | (Ok(None), Some(report)) => Step::done(report),
            (Err(_), Some(report)) => Step::done(report),
            // Money is short, whatever the code: asked for again under its name, it is the same refund.
            (Ok(None), None) if Obstacle::told_by(&doubt).is_some() => {
                Step::failed(CallError::NotNow {
                    obstacle: Obstacle::InsufficientBalance,
                    reason: doubt,
                })
            }
            (Ok(None), None) => Step::failed(CallError::Unknown { reason: doubt }),
            (Err(error), None) => Step::failed(CallError::Unknown {
                reason: format!("{doubt}; then {error}"),
            }),
        }
    }

    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        let Some(answer) = answers.first() else {
            return Step::call(self.check_txn(number_of_refund(request), Some(&request.token)));
        };
        match self.refund_shown(answer, request) {
            Ok(report) => Step::done(report),
            Err(error) => Step::failed(error),
        }
    }
}

/// What Zaakpay calls an order. Inside WhatsApp it is whatever the message is called.
fn number<'a>(
    mode: PaymentMode,
    reference: &'a ReferenceId,
    gateway_id: Option<&'a str>,
    order_id: &'a str,
) -> &'a str {
    match mode {
        PaymentMode::PaymentGateway => reference.as_str(),
        PaymentMode::PaymentLink | PaymentMode::UpiIntent => gateway_id.unwrap_or(order_id),
    }
}

fn number_of(request: &LookupRequest) -> &str {
    let id = request.gateway_id.as_deref();
    number(request.mode, &request.reference, id, &request.order_id)
}

fn number_of_refund(request: &RefundRequest) -> &str {
    let id = request.gateway_id.as_deref();
    number(request.mode, &request.reference, id, &request.order_id)
}

fn scheduled(request: &RefundRequest) -> RefundReport {
    RefundReport {
        status: RefundStatus::Pending,
        id: None,
        name: Some(request.token.clone()),
        payment_id: request.payment_id.clone(),
        amount: request.amount,
        speed: Some(Speed::Normal),
        bank_reference: None,
        error: None,
        at: None,
    }
}

/// One order as "Check Transaction Status API" shows it.
struct Shown {
    document: Value,
    code: Option<String>,
    txn_status: Option<String>,
}

/// What became of an order, going by its code and its `txnStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Zaakpay does not know it.
    Absent,
    Attempt(AttemptStatus),
}

impl Shown {
    fn read(document: &Value) -> Self {
        Self {
            document: document.clone(),
            code: word(document, "responseCode"),
            txn_status: word(document, "txnStatus"),
        }
    }

    fn detail(&self, name: &str) -> Option<&Value> {
        self.document.get("orderDetail")?.get(name)
    }

    fn txn_id(&self) -> Option<String> {
        word(self.document.get("orderDetail")?, "txnId")
    }

    /// Two fields tell of the state. When they contradict each other nobody knows, and both outcomes would be wrong half the time.
    fn state(&self) -> Option<State> {
        let by_code = self.code.as_deref().and_then(state);
        let by_status = match self.txn_status.as_deref() {
            // "Check Status API txn Status": success, refund, partial refund, and chargebacks of what was paid.
            Some("0" | "3" | "4" | "5" | "6" | "7" | "8") => {
                Some(State::Attempt(AttemptStatus::Captured))
            }
            Some("1") => Some(State::Attempt(AttemptStatus::Failed)),
            Some("2") => Some(State::Attempt(AttemptStatus::Pending)),
            _ => None,
        };
        let captured = Some(State::Attempt(AttemptStatus::Captured));
        match (by_code, by_status) {
            // Authorised at first, and over by now: "Check Status API txn Status", failure.
            (
                Some(State::Attempt(AttemptStatus::Authorized | AttemptStatus::Pending)),
                over @ Some(State::Attempt(AttemptStatus::Failed)),
            ) => over,
            (code, status) if (code == captured) == (status == captured) => code.or(status),
            (Some(one), None) | (None, Some(one)) => Some(one),
            _ => None,
        }
    }

    fn report(&self, status: AttemptStatus) -> Option<PaymentReport> {
        let instrument = self.document.get("paymentInstrument");
        Some(PaymentReport {
            paid_in_full: None,
            fee: None,
            offer: None,
            status,
            payment_id: self.txn_id()?,
            amount: paise(self.detail("amount")?)?,
            currency: "INR".to_owned(),
            method: instrument
                .and_then(|i| word(i, "paymentMode"))
                .and_then(|mode| method(&mode)),
            error: (status == AttemptStatus::Failed)
                .then(|| self.code.as_deref().map(quotable))
                .flatten(),
            at: self.paid_at(),
        })
    }

    /// `txnDate` moves on with every change: in the sample it is the refund's. Then the beginning is the nearest time there is.
    fn paid_at(&self) -> Option<Millis> {
        let is_untouched = self.txn_status.as_deref() == Some("0");
        let txn_date = word(&self.document, "txnDate").filter(|_| is_untouched);
        txn_date
            .or_else(|| word(self.document.get("orderDetail")?, "createDate"))
            .and_then(|text| moment(&text))
    }

    fn refunds(&self) -> Vec<RefundReport> {
        let payment_id = self.txn_id().unwrap_or_default();
        let refunds = self.document.get("refundDetails").and_then(Value::as_array);
        refunds
            .into_iter()
            .flatten()
            .filter_map(|refund| {
                Some(RefundReport {
                    status: self.refund_status(),
                    id: None,
                    name: word(refund, "merchantRefId"),
                    payment_id: payment_id.clone(),
                    amount: paise(refund.get("amount")?)?,
                    speed: None,
                    bank_reference: word(refund, "arn"),
                    error: None,
                    at: None,
                })
            })
            .collect()
    }

    /// A refund has no state of its own; the order's code tells of the last one. An `arn` is there from the beginning.
    fn refund_status(&self) -> RefundStatus {
        match self.code.as_deref() {
            // "Refund Completed", "Refund Paid Out" and the like, also before the payout to the merchant.
            Some("231" | "236" | "251" | "252" | "253" | "254" | "255" | "256") => {
                RefundStatus::Processed
            }
            _ => RefundStatus::Pending,
        }
    }
}

/// "Check Status API Response codes", by its column "Transaction Success"; 100 is from "Response Attributes". `None`: not there, or
/// not telling (234, a payout to the merchant that failed).
fn state(code: &str) -> Option<State> {
    Some(match code {
        "100" | "212" | "228" | "230" | "231" | "232" | "233" | "236" | "237" | "238" | "239"
        | "240" | "241" | "245" | "246" | "247" | "248" | "249" | "251" | "252" | "253" | "254"
        | "255" | "256" => State::Attempt(AttemptStatus::Captured),
        "209" => State::Attempt(AttemptStatus::Authorized),
        // Scheduled, initiated, processing, on hold, incomplete: the customer may be at it.
        "206" | "207" | "208" | "210" | "211" => State::Attempt(AttemptStatus::Pending),
        // Fraud detected, canceled, declined by the bank.
        "103" | "213" | "400" => State::Attempt(AttemptStatus::Failed),
        // Not found; "either not processed or rejected".
        "205" | "190" => State::Absent,
        _ => return None,
    })
}

/// The same table: what is wrong with the question. Whatever else such an answer says, it tells nothing of the order.
fn complains(code: &str) -> bool {
    matches!(
        code,
        "110" | "111" | "129" | "155" | "156" | "180" | "182" | "189" | "191" | "223"
    )
}

impl Zaakpay {
    /// The orders of an answer to checkTxn. Asking is harmless, so every failure to do so may be repeated.
    fn shown(&self, answer: &Answer, order_id: &str) -> Result<Vec<Shown>, CallError> {
        let reply = match answer {
            Answer::NotSent(reason) | Answer::Lost(reason) => return Err(again(reason)),
            Answer::Reply(reply) => reply,
        };
        if !reply.ok() {
            return Err(match refused(reply) {
                CallError::Unknown { reason } => again(&reason),
                error => error,
            });
        }
        let document = reply
            .json()
            .filter(Value::is_object)
            .ok_or_else(|| again("the answer is not a JSON object"))?;
        if word(&document, "merchantIdentifier").is_some_and(|m| m != self.merchant) {
            return Err(again("the answer is another merchant's"));
        }
        // How an error looks is not printed: its code is looked for beside the orders and in them.
        let Some(orders) = document.get("orders").and_then(Value::as_array) else {
            return match word(&document, "responseCode") {
                Some(code) if state(&code) == Some(State::Absent) => Ok(Vec::new()),
                Some(code) => Err(refusal(&code, answer)),
                None => Err(again("the answer shows no orders")),
            };
        };
        let mut shown = Vec::new();
        for order in orders.iter().map(Shown::read) {
            let named = order.detail("orderId").and_then(Value::as_str);
            if named.is_some_and(|named| named != order_id) {
                return Err(again("the answer speaks of another order"));
            }
            if let Some(code) = order.code.as_deref()
                && (complains(code) || (state(code).is_none() && order.txn_status.is_none()))
            {
                return Err(refusal(code, answer));
            }
            shown.push(order);
        }
        Ok(shown)
    }

    fn found(&self, answer: &Answer, order_id: &str) -> Result<Found, CallError> {
        let mut found = Found::default();
        for order in self.shown(answer, order_id)? {
            let unclear = || again("the order's state could not be read");
            match order.state().ok_or_else(unclear)? {
                State::Absent => {}
                State::Attempt(status) => match order.report(status) {
                    Some(report) => found.reports.push(report),
                    // Money without its id or amount is not passed over; an attempt that led to nothing is.
                    None if status == AttemptStatus::Captured => return Err(unclear()),
                    None => {}
                },
            }
            // One without a name is told from no other, ours or the dashboard's: it would count twice.
            let named = |refund: &RefundReport| refund.name.is_some();
            found
                .refunds
                .extend(order.refunds().into_iter().filter(named));
        }
        Ok(found)
    }

    /// Whether the order's money is the payment that is to go back. Gives the refund when it is there already, under its name.
    fn refundable(
        &self,
        answer: &Answer,
        request: &RefundRequest,
    ) -> Result<Option<RefundReport>, CallError> {
        let found = self.found(answer, number_of_refund(request))?;
        let is_money = |report: &&PaymentReport| report.status == AttemptStatus::Captured;
        let mut paid = found.reports.iter().filter(is_money);
        let is_meant = |report: &PaymentReport| report.payment_id == request.payment_id;
        if !paid.next().is_some_and(is_meant) || paid.next().is_some() {
            return Err(CallError::Rejected {
                code: "not_this_payment".to_owned(),
                reason: "Zaakpay refunds by the order's number, and shows another payment there"
                    .to_owned(),
            });
        }
        let named = |report: &RefundReport| report.name.as_deref() == Some(&request.token);
        Ok(found.refunds.into_iter().find(named))
    }

    /// The refund that was asked for, in an answer to a question that named it. `None`: Zaakpay does not show it.
    fn refund_shown(
        &self,
        answer: &Answer,
        request: &RefundRequest,
    ) -> Result<Option<RefundReport>, CallError> {
        let orders = self.shown(answer, number_of_refund(request))?;
        let ours = |report: RefundReport| RefundReport {
            name: Some(request.token.clone()),
            payment_id: request.payment_id.clone(),
            ..report
        };
        let mut unnamed = Vec::new();
        for order in &orders {
            for refund in order.refunds() {
                match refund.name.as_deref() {
                    Some(name) if name == request.token => return Ok(Some(ours(refund))),
                    Some(_) => {}
                    // The printed answer leaves the name out, although the question had one.
                    None if refund.amount == request.amount => unnamed.push(refund),
                    None => {}
                }
            }
        }
        // Whether the answer holds the one that was asked for only, or all of them, is not said.
        let is_first = request.before == Paise::ZERO && request.same_amount_at.is_none();
        if unnamed.len() > 1 || (!unnamed.is_empty() && !is_first) {
            return Err(again(
                "a refund of this amount without a name, which may be another",
            ));
        }
        if let Some(refund) = unnamed.pop() {
            return Ok(Some(ours(refund)));
        }
        let Some(order) = orders.first() else {
            return Ok(None);
        };
        let is_full = request.before == Paise::ZERO && request.amount == request.captured;
        if order.code.as_deref().and_then(state) == Some(State::Absent) {
            return Ok(None);
        }
        match order.txn_status.as_deref() {
            // "When failure is recieved in check status , then retry": the shop asks anew, under another name.
            Some("1") => Ok(Some(RefundReport {
                status: RefundStatus::Failed,
                error: order.code.as_deref().map(quotable),
                ..scheduled(request)
            })),
            // All of it goes back: whoever asked for it, there is nothing left to refund.
            Some("3") if is_full => Ok(Some(RefundReport {
                status: order.refund_status(),
                ..scheduled(request)
            })),
            _ => Ok(None),
        }
    }

    /// What updateTxn said.
    fn updated(&self, answer: &Answer, order_id: &str) -> Update {
        let reply = match answer {
            Answer::NotSent(reason) => return Update::Failed(again(reason)),
            Answer::Lost(reason) => return Update::Unclear(quotable(reason)),
            Answer::Reply(reply) => reply,
        };
        if !reply.ok() {
            return match refused(reply) {
                CallError::Unknown { reason } => Update::Unclear(reason),
                error => Update::Failed(error),
            };
        }
        // Older versions answer in XML, which tells nothing here: what happened is asked for.
        let Some(document) = reply.json() else {
            return Update::Unclear("the answer is not JSON".to_owned());
        };
        let named = document.pointer("/orderDetail/orderId");
        if named
            .and_then(Value::as_str)
            .is_some_and(|id| id != order_id)
        {
            return Update::Unclear("the answer speaks of another order".to_owned());
        }
        match word(&document, "responseCode") {
            Some(code) => Update::Said(code),
            None => Update::Unclear("the answer has no code".to_owned()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Update {
    /// Zaakpay's code.
    Said(String),
    /// It may or may not have happened.
    Unclear(String),
    Failed(CallError),
}

/// Our code for refused keys, whatever the vendor calls it.
const CREDENTIALS: &str = "gateway_credentials";

/// Zaakpay's words beside a code.
fn words(code: &str, answer: &Answer) -> String {
    let words = match answer {
        Answer::Reply(reply) => reply.json().and_then(|document| {
            word(&document, "responseDescription")
                .or_else(|| word(document.pointer("/orders/0")?, "responseDescription"))
        }),
        _ => None,
    };
    quotable(&words.unwrap_or_else(|| format!("code {code}")))
}

/// What a code means that is no state and no success.
fn refusal(code: &str, answer: &Answer) -> CallError {
    let reason = words(code, answer);
    match code {
        // "MerchantIdentifier not valid", "Checksum received with request is not equal to what we calculated".
        "111" | "180" => CallError::Rejected {
            code: CREDENTIALS.to_owned(),
            reason,
        },
        // "Transaction cannot be refunded from 'Settled' state. Please try again later."
        "844" => CallError::Unavailable {
            reason,
            retry_after: None,
        },
        _ => CallError::Rejected {
            code: quotable(code),
            reason,
        },
    }
}

/// What a status that is no success means; the documents know none. `Unknown` stands for "it may have acted".
fn refused(reply: &HttpReply) -> CallError {
    let reason = format!("HTTP status {}", reply.status);
    match reply.status {
        429 => CallError::Unavailable {
            reason,
            retry_after: reply.retry_after,
        },
        401 | 403 => CallError::Rejected {
            code: CREDENTIALS.to_owned(),
            reason,
        },
        408 => CallError::Unknown { reason },
        400..=499 => CallError::Rejected {
            code: format!("http_{}", reply.status),
            reason,
        },
        _ => CallError::Unknown { reason },
    }
}

fn again(reason: &str) -> CallError {
    CallError::Unavailable {
        reason: quotable(reason),
        retry_after: None,
    }
}

/// What of a webhook is signed.
enum Signed {
    /// The text of `txnData`.
    Transactions(Vec<u8>),
    /// The fields a browser brought back, each once.
    Returned(Vec<(String, Vec<u8>)>),
}

impl Signed {
    /// Finds what is signed, and the checksum. A field that is there twice counts as missing.
    fn find(body: &[u8]) -> Option<(Self, String)> {
        if trimmed(body).first() == Some(&b'{') {
            return Self::in_json(body);
        }
        let mut form = form(body)?;
        let checksum = String::from_utf8(taken(&mut form, "checksum")?).ok()?;
        if form.iter().any(|(name, _)| name == "txnData") {
            let text = taken(&mut form, "txnData")?;
            return Some((Self::Transactions(text), checksum));
        }
        let mut fields = Vec::new();
        for name in RETURNED {
            if form.iter().any(|(found, _)| found == name) {
                fields.push((name.to_owned(), taken(&mut form, name)?));
            }
        }
        let has = |wanted: &str| fields.iter().any(|(name, _)| name == wanted);
        (has("orderId") && has("responseCode")).then_some((Self::Returned(fields), checksum))
    }

    /// "Webhooks" says `application/json` and shows a form. If it is JSON, `txnData` is a text, or an object whose text counts as
    /// it stands: written anew it would be another ("/" comes as "\/").
    fn in_json(body: &[u8]) -> Option<(Self, String)> {
        let (mut data, mut checksum) = (None, None);
        // Nothing moves when broken characters are replaced, so what is signed is still taken from the bytes as they came.
        for (name, value, place) in members(&lenient::mended(body))? {
            let twice = match name.as_str() {
                "txnData" => data
                    .replace(match value {
                        Value::String(text) => text.into_bytes(),
                        _ => body.get(place)?.to_vec(),
                    })
                    .is_some(),
                "checksum" => checksum.replace(value.as_str()?.to_owned()).is_some(),
                _ => false,
            };
            if twice {
                return None;
            }
        }
        Some((Self::Transactions(data?), checksum?))
    }

    fn text(&self) -> Vec<u8> {
        match self {
            Self::Transactions(text) => text.clone(),
            Self::Returned(fields) => {
                let mut text = Vec::new();
                for (name, value) in fields {
                    text.extend_from_slice(name.as_bytes());
                    text.push(b'=');
                    text.extend_from_slice(value);
                    text.push(b'&');
                }
                text
            }
        }
    }
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

/// The pairs of a form; `None` if a name is not text.
fn form(body: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let decoded = |part: &[u8]| -> Vec<u8> {
        let spaced: Vec<u8> = part
            .iter()
            .map(|b| if *b == b'+' { b' ' } else { *b })
            .collect();
        percent_decode(&spaced).collect()
    };
    body.split(|b| *b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut parts = pair.splitn(2, |b| *b == b'=');
            let name = decoded(parts.next()?);
            let value = decoded(parts.next().unwrap_or_default());
            Some((String::from_utf8(name).ok()?, value))
        })
        .collect()
}

/// Takes the one field of this name.
fn taken(form: &mut Vec<(String, Vec<u8>)>, name: &str) -> Option<Vec<u8>> {
    let at = form.iter().position(|(found, _)| found == name)?;
    let (_, value) = form.swap_remove(at);
    form.iter().all(|(found, _)| found != name).then_some(value)
}

impl Webhooks for Zaakpay {
    fn name(&self) -> &'static str {
        "zaakpay"
    }

    /// "Webhooks", checksum: "calculated on the entire JSON value of txnData using secret key of the merchant". What a browser
    /// brings back is checked as Zaakpay's kit does. Values count as they come: a description really ends in a blank.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
        let (signed, checksum) = Signed::find(&raw.body).ok_or(Refused::Missing)?;
        let proof = signature::hmac_sha256_hex(&self.secrets, &signed.text(), &checksum)
            .ok_or(Refused::Mismatch)?;
        Ok(VerifiedWebhook::new(raw, proof))
    }

    /// What the address says of `realtime` is not signed, so the content decides.
    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
        match Signed::find(webhook.body()) {
            Some((Signed::Transactions(text), _)) => self.transactions(&text),
            Some((Signed::Returned(fields), _)) => self.returned(&fields),
            None => Err(Unreadable("nothing signed".to_owned())),
        }
    }

    /// "Webhooks", response: "HTTP status code 2xx and "SUCCESS"".
    fn acknowledgement(&self) -> &'static str {
        "SUCCESS"
    }

    fn challenge(&self, _raw: &RawWebhook) -> Option<String> {
        None
    }
}

impl Zaakpay {
    /// Whether an order's number is of this tenant's making. Inside WhatsApp none is.
    fn owns(&self, order_id: &str) -> bool {
        self.native || names::is_of(self.proofs.tenant(), order_id)
    }

    /// What an entry says, if its order is one of ours.
    fn ours(&self, entry: &Value, read: impl Fn(&Value) -> Option<Signal>) -> Option<Signal> {
        let named = word(entry, "orderId").or_else(|| word(entry, "orderid"))?;
        if self.owns(&named) {
            read(entry)
        } else {
            Some(Signal::Foreign(SOMEBODY_ELSES.to_owned()))
        }
    }

    fn transactions(&self, text: &[u8]) -> Result<Vec<Signal>, Unreadable> {
        let data = lenient::parse(text)
            .map_err(|error| Unreadable(format!("txnData is not JSON: {error}")))?;
        if word(&data, "merchantIdentifier").as_deref() != Some(self.merchant.as_str()) {
            return Err(Unreadable("it is meant for another merchant".to_owned()));
        }
        let list = |name: &str| data.get(name).and_then(Value::as_array).cloned();
        let (txns, refunds) = (list("txns"), list("refunds"));
        if txns.is_none() && refunds.is_none() {
            return Err(Unreadable("neither txns nor refunds".to_owned()));
        }
        // One that cannot be read must not keep the others from being applied.
        let txns = txns.unwrap_or_default();
        let mut signals: Vec<Signal> = txns
            .iter()
            .map(|txn| {
                self.ours(txn, transaction).unwrap_or_else(|| {
                    Signal::Ignored("a transaction without order or amount".to_owned())
                })
            })
            .collect();
        signals.extend(refunds.unwrap_or_default().iter().map(|refund| {
            self.ours(refund, auto_refund)
                .unwrap_or_else(|| Signal::Ignored("a refund of unknown form".to_owned()))
        }));
        let unread = |signal: &Signal| matches!(signal, Signal::Ignored(_));
        if !signals.is_empty() && signals.iter().all(unread) && !txns.is_empty() {
            return Err(Unreadable("no transaction could be read".to_owned()));
        }
        if signals.is_empty() {
            signals.push(Signal::Ignored("no transactions".to_owned()));
        }
        Ok(signals)
    }

    /// What the customer's browser was told to post. It may be old, and its text may be put together from that of our own form, so it
    /// only makes us ask.
    fn returned(&self, fields: &[(String, Vec<u8>)]) -> Result<Vec<Signal>, Unreadable> {
        let said = |wanted: &str| {
            let (_, value) = fields.iter().find(|(name, _)| name == wanted)?;
            String::from_utf8(value.clone())
                .ok()
                .filter(|t| !t.is_empty())
        };
        let read = || {
            let named = said("orderId")?;
            if !self.owns(&named) {
                return Some(Signal::Foreign(SOMEBODY_ELSES.to_owned()));
            }
            let is_paid = said("responseCode")? == "100";
            Some(Signal::Payment {
                reference: ReferenceId::parse(named.as_str()).ok()?,
                report: PaymentReport {
                    paid_in_full: None,
                    fee: None,
                    offer: None,
                    status: if is_paid {
                        AttemptStatus::Captured
                    } else {
                        AttemptStatus::Failed
                    },
                    payment_id: said("pgTransId").unwrap_or(named),
                    amount: paise(&Value::from(said("amount")?))?,
                    currency: "INR".to_owned(),
                    method: said("paymentMode").and_then(|mode| method(&mode)),
                    error: None,
                    at: said("pgTransTime").and_then(|text| moment(&text)),
                },
                trust: Trust::Hint,
            })
        };
        read()
            .map(|signal| vec![signal])
            .ok_or_else(|| Unreadable("a return without order, code or amount".to_owned()))
    }
}

/// One transaction of a webhook.
fn transaction(txn: &Value) -> Option<Signal> {
    let (reference, named) = order_of(txn)?;
    let id = word(txn, "pgTransId");
    let code = word(txn, "responseCode");
    let status = match code.as_deref() {
        // "Non Real Time Webhook": marked as failed at first, "changed to Success at a later time".
        None | Some("100") => AttemptStatus::Captured,
        // Codes of the status call are not documented here; what they mean is asked for.
        Some(code) => match state(code) {
            Some(State::Attempt(status)) => status,
            Some(State::Absent) | None => AttemptStatus::Failed,
        },
    };
    let time = ["pgTransTime", "txnDate"]
        .iter()
        .find_map(|name| moment(&word(txn, name)?));
    Some(Signal::Payment {
        reference,
        report: PaymentReport {
            paid_in_full: None,
            fee: None,
            offer: None,
            status,
            // No transaction is called like an order, so a hint without an id is taken for none that is known.
            payment_id: id.unwrap_or(named),
            amount: paise(txn.get("amount")?)?,
            currency: "INR".to_owned(),
            method: word(txn, "paymentMode").and_then(|mode| method(&mode)),
            error: (status == AttemptStatus::Failed)
                .then(|| code.as_deref().map(quotable))
                .flatten(),
            at: time,
        },
        // Signed, but it does not say which transaction it is: see above.
        trust: Trust::Hint,
    })
}

/// "Webhooks", refunds: "All txns auto-refunded if auto-refund is enabled by merchant". What one looks like is not printed; it is
/// read as a transaction is, and Zaakpay is asked.
fn auto_refund(refund: &Value) -> Option<Signal> {
    let (reference, named) = order_of(refund)?;
    Some(Signal::Refund {
        reference,
        report: RefundReport {
            status: RefundStatus::Pending,
            id: None,
            name: None,
            payment_id: word(refund, "pgTransId").unwrap_or(named),
            amount: paise(refund.get("amount")?)?,
            speed: None,
            bank_reference: None,
            error: None,
            at: None,
        },
        trust: Trust::Hint,
    })
}

const SOMEBODY_ELSES: &str = "an order that was not made here";

/// The order's number: `orderId` in real time, `orderid` after reconciliation.
fn order_of(txn: &Value) -> Option<(ReferenceId, String)> {
    let named = word(txn, "orderId").or_else(|| word(txn, "orderid"))?;
    Some((ReferenceId::parse(named.as_str()).ok()?, named))
}

/// A word or number as text. "NA" stands for nothing.
fn word(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) if !text.is_empty() && text != "NA" => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Paise, as a text of digits or as a whole number.
fn paise(value: &Value) -> Option<Paise> {
    let number = match value {
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
        Value::Number(number) => number.as_i64()?,
        _ => return None,
    };
    Paise::new(number).ok()
}

/// `paymentMode` in our words: the samples have "Credit Card", "Debit Card", "Net Banking", "UPI"; wallets are named in prose.
fn method(mode: &str) -> Option<String> {
    let mode = mode.to_ascii_lowercase();
    let known = [
        ("card", "card"),
        ("upi", "upi"),
        ("banking", "netbanking"),
        ("wallet", "wallet"),
    ];
    known
        .iter()
        .find(|(part, _)| mode.contains(part))
        .map(|(_, word)| (*word).to_owned())
}

/// `2021-09-24 16:49:41.36` or `09/24/2021 16:49:40`, in India's time.
fn moment(text: &str) -> Option<Millis> {
    let numbers = |text: &str, separator: char| -> Option<[u16; 3]> {
        let numbers: Option<Vec<u16>> = text.split(separator).map(|n| n.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let (date, clock) = text.split_once(' ')?;
    let (year, month, day) = if date.contains('/') {
        let [month, day, year] = numbers(date, '/')?;
        (year, month, day)
    } else {
        let [year, month, day] = numbers(date, '-')?;
        (year, month, day)
    };
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let [hour, minute, second] = numbers(clock, ':')?;
    let small = |n: u16| u8::try_from(n).ok();
    let month = time::Month::try_from(small(month)?).ok()?;
    let date = time::Date::from_calendar_date(i32::from(year), month, small(day)?).ok()?;
    let moment = date
        .with_hms(small(hour)?, small(minute)?, small(second)?)
        .ok()?
        .assume_offset(time::macros::offset!(+5:30));
    Some(Millis::from_seconds(moment.unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chatbill_domain::ids::TenantId;

    /// Vector zaak-s05: what only the kit's sequence of all fields can get right, of which a form of ours has eight.
    #[test]
    fn the_kit_and_we_sign_a_checkout_form_alike() {
        let vectors: Value =
            serde_json::from_str(include_str!("../fixtures/zaakpay/signatures.json")).unwrap();
        let vector = vectors
            .as_array()
            .unwrap()
            .iter()
            .find(|v| v["id"] == "zaak-s05")
            .unwrap();
        let gateway = Zaakpay {
            base: BASE_URL.to_owned(),
            merchant: "b19e8f103bce406cbd3476431b6b7973".to_owned(),
            secrets: vec![SecretString::from(vector["secret"].as_str().unwrap())],
            buyer_email: None,
            proofs: BillProofs::new(TenantId::parse("acme").unwrap(), vec![]),
            native: false,
        };
        let params = vector["params"].as_object().unwrap();
        let fields: Vec<(&str, &str)> = params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let mut signed = gateway.signed(&fields);
        let (name, checksum) = signed.pop().unwrap();
        assert_eq!(name, "checksum");
        assert_eq!(checksum, vector["expected_signature"].as_str().unwrap());
        let text: String = signed.iter().map(|(n, v)| format!("{n}={v}&")).collect();
        assert_eq!(text, vector["string_to_sign"].as_str().unwrap());
    }

    #[test]
    fn times_are_india_s() {
        // The order number of that sample ends in 1632479839916: 16:07:19 in India, four minutes earlier.
        let paid = Millis::from_seconds(1_632_480_066);
        assert_eq!(moment("09/24/2021 16:11:06"), Some(paid));
        assert_eq!(moment("2021-09-24 16:11:06.272"), Some(paid));
        for bad in [
            "",
            " ",
            "NA",
            "09/24/2021",
            "2021-13-01 00:00:00",
            "24/09/2021 1:1:1",
            "2021-09-24 16:11",
            "2021-09-24 24:00:00",
            "-1-1-1 0:0:0",
            "99999999-1-1 0:0:0",
        ] {
            assert_eq!(moment(bad), None, "{bad}");
        }
    }
}
