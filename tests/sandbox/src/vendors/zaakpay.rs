//! Zaakpay: the checkout form, the status and update calls, and both kinds of webhooks.
//!
//! Written from developer.zaakpay.com ("Web Redirection flow", "Check Transaction Status API", "Update/Refund API", "Webhooks") and,
//! for what is signed, from Zaakpay's kit (deep-mob/Zaakpay-NodeJs-PGKit). What the documents leave open is decided here and said so.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Act, Outcome, Refused, Vendor, merged, wanted};
use crate::calendar::{INDIA, date_and_time};
use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};
use crate::sign::hmac_sha256_hex;
use crate::strict::{Fields, Problem};

/// "Min Value 100 & Max Value 10000000" (Web Redirection flow, amount).
const LEAST_PAISE: i64 = 100;
const MOST_PAISE: i64 = 10_000_000;
/// "Transactions older than 6 months cannot be refunded" (Update/Refund API, 846), the longest there are.
const REFUNDABLE: i64 = 184 * 24 * 60 * 60;

/// The fields of the checkout form in the sequence they are signed in (the kit, `getChecksumString`).
const REQUEST_FIELDS: &str = "amount bankid buyerAddress buyerCity buyerCountry buyerEmail buyerFirstName buyerLastName \
    buyerPhoneNumber buyerPincode buyerState currency debitorcredit merchantIdentifier merchantIpAddress mode orderId \
    product1Description product2Description product3Description product4Description productDescription productInfo purpose \
    returnUrl shipToAddress shipToCity shipToCountry shipToFirstname shipToLastname shipToPhoneNumber shipToPincode shipToState \
    showMobile txnDate txnType zpPayOption";

/// The fields of the answer in the sequence they are signed in (the kit, `getResponseChecksumString`).
const RESPONSE_FIELDS: &str = "amount bank bankid cardId cardScheme cardToken cardhashid doRedirect orderId paymentMethod \
    paymentMode responseCode responseDescription productDescription product1Description product2Description product3Description \
    product4Description pgTransId pgTransTime";

const OPERATIONS: &[&str] = &[
    "transact",
    "checkout_page",
    "check_txn",
    "update_txn",
    "unknown",
];

const EVENTS: &[&str] = &["txn.success", "txn.failed", "txn.reconciled", "forged"];

/// How the refunds of an account end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum RefundsEnd {
    /// At once, well.
    #[default]
    Processed,
    /// Not by themselves.
    Pending,
    /// Not by themselves, and not shown before: code 19.
    Scheduled,
    /// At once, badly.
    Failed,
}

/// How a webhook's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum HookBody {
    /// The sample.
    #[default]
    Form,
    /// The prose, with `txnData` as an object.
    Json,
    /// The prose, with `txnData` as a text.
    JsonText,
}

/// Whether an order number may be posted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum Repeat {
    /// Until it is paid.
    #[default]
    Unpaid,
    /// "we do not accept duplicate", taken at its word.
    Never,
}

/// An account, as `POST /_control/accounts` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    merchant_identifier: String,
    secret_key: String,
    #[serde(default)]
    webhook_url: Option<String>,
    /// Further addresses that hear of everything, of merchants who share the identifier.
    #[serde(default)]
    more_webhook_urls: Vec<String>,
    /// What is not settled yet and can be given back, in paise; without end if left out.
    #[serde(default)]
    balance: Option<i64>,
    #[serde(default)]
    webhook_body: HookBody,
    #[serde(default)]
    refunds: RefundsEnd,
    /// The status call repeats `merchantRefId`, as its table says and its sample does not.
    #[serde(default = "yes")]
    refunds_named: bool,
    #[serde(default)]
    repeat_order_id: Repeat,
    /// The update call answers in XML, as older versions do.
    #[serde(default)]
    xml: bool,
    /// Payments are settled at once, so that they cannot be refunded: 844.
    #[serde(default)]
    settled: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The form was posted.
    Initiated,
    Authorized,
    Captured,
    Declined,
    Canceled,
}

#[derive(Debug, Clone)]
struct Refund {
    name: String,
    amount: i64,
    arn: String,
    status: &'static str,
    is_shown: bool,
}

#[derive(Debug, Clone)]
struct Txn {
    id: String,
    account: String,
    order_id: String,
    amount: i64,
    return_url: String,
    description: String,
    method: &'static str,
    state: State,
    created_at: i64,
    changed_at: i64,
    refunds: Vec<Refund>,
}

impl Txn {
    fn refunded(&self) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.status != "failed")
            .fold(0, |sum, refund| sum.saturating_add(refund.amount))
    }

    /// `responseCode` and `txnStatus` of the status call.
    fn codes(&self) -> (&'static str, &'static str) {
        let last = self
            .refunds
            .iter()
            .rfind(|refund| refund.status != "failed" && refund.is_shown);
        let is_full = self.refunded() >= self.amount;
        match (self.state, last.map(|refund| refund.status)) {
            (State::Initiated, _) => ("207", "2"),
            (State::Authorized, _) => ("209", "2"),
            (State::Declined, _) => ("400", "1"),
            (State::Canceled, _) => ("213", "1"),
            (State::Captured, None) => ("228", "0"),
            (State::Captured, Some("processed")) if is_full => ("236", "3"),
            (State::Captured, Some(_)) if is_full => ("230", "3"),
            (State::Captured, Some("processed")) => ("251", "4"),
            (State::Captured, Some(_)) => ("245", "4"),
        }
    }
}

/// Zaakpay.
#[derive(Debug, Default)]
pub(crate) struct Zaakpay {
    accounts: BTreeMap<String, Account>,
    /// The accounts as they were given.
    said: BTreeMap<String, Value>,
    /// Oldest first.
    txns: Vec<Txn>,
}

/// The words of the documents' tables; those of the checkout's codes are from the table of an older kit.
fn words(code: &str) -> &'static str {
    match code {
        "19" => "Refund scheduled with bank. Please try again after some time if not refunded",
        "20" => {
            "Refund already scheduled with bank. Please try again after some time if not refunded"
        }
        "21" => {
            "Some Refunds already scheduled with bank. Please try other requests after some time"
        }
        "100" => "The transaction was completed successfully. ",
        "102" => "Customer cancelled transaction.",
        "107" => "Transaction Amount Limit Not Matched.",
        "109" => "Validation Failed.",
        "110" => "MerchantIdentifier field missing or blank",
        "111" => "MerchantIdentifier not valid",
        "129" => "OrderId field missing or blank",
        "130" => "OrderId received with request was not Valid.",
        "133" => "BuyerEmail field missing or blank.",
        "134" => "BuyerEmail received with request was not Valid.",
        "155" => "Mode field missing or blank",
        "156" => "Mode received with request was not valid",
        "180" => "Checksum received with request is not equal to what we calculated",
        "184" => "Update Desired blank.",
        "185" => "Update Desired not Valid",
        "186" => "Update Reason blank.",
        "187" => "Update Reason Not Valid.",
        "189" => "Checksum was blank.",
        "190" => "orderId either not Processed or Rejected",
        "201" => "Transaction cannot be refunded.",
        "203" => "Transaction status could not be updated try again.",
        "205" => "We could not find this transaction in our database",
        "207" => "Transaction in Initiated state.",
        "209" => "Transaction has been authorized.",
        "213" => "Transaction has been canceled.",
        "228" => "Transaction has been captured.",
        "229" => "Transaction cannot be captured.",
        "230" => "Transaction Refund Initiated",
        "236" => "Transaction Refund Paid Out",
        "242" => "Transaction captured successfully.",
        "243" => "Transaction canceled successfully.",
        "245" => "Transaction Partial Refund Initiated",
        "251" => "Transaction Partial Refund Paid out",
        "400" => {
            "Your Bank has declined this transaction, please Retry this payment with another Card."
        }
        "843" => "Not enough unsettled funds available with MobiKwik.",
        "844" => "Transaction cannot be refunded from 'Settled' state. Please try again later.",
        "846" => "Transactions older than 6 months cannot be refunded.",
        "110 order" => "Order Id Already Processed with this Merchant.",
        _ => "",
    }
}

impl Vendor for Zaakpay {
    fn name(&self) -> &'static str {
        "zaakpay"
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
            ("POST", ["api", "paymentTransact", "V8"]) => "transact",
            (_, ["checkout", ..]) => "checkout_page",
            ("POST", ["checkTxn"]) => "check_txn",
            ("POST", ["updateTxn"]) => "update_txn",
            _ => "unknown",
        }
    }

    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let (method, segments) = call.route();
        match (method, segments.as_slice()) {
            ("POST", ["api", "paymentTransact", "V8"]) => self.transact(call, desk),
            ("GET", ["checkout", id]) => self.page(id),
            ("POST", ["checkout", id, act]) => self.tap(id, act, desk),
            ("POST", ["checkTxn"]) => self.check_txn(call),
            ("POST", ["updateTxn"]) => self.update_txn(call, desk),
            _ => Answer::html(404, "<!doctype html><title>Not found</title>".to_owned()),
        }
    }

    fn error(&self, _status: u16, code: Option<i64>, _desk: &mut Desk) -> Value {
        // No page prints an error; a planned code is worded as in the tables.
        let code = code.unwrap_or(203).to_string();
        json!({"responseCode": code, "responseDescription": words(&code)})
    }

    fn register(&mut self, account: &Value) -> Result<(), Refused> {
        let (name, said) = merged(&self.said, "merchant_identifier", account)?;
        let account: Account = serde_json::from_value(said.clone())
            .map_err(|error| Refused::invalid(format!("zaakpay: {error}")))?;
        self.said.insert(name.clone(), said);
        self.accounts.insert(name, account);
        Ok(())
    }

    fn tick(&mut self, _desk: &mut Desk) {}

    fn owns(&self, link: &str) -> bool {
        link.contains("/zaakpay/checkout/")
    }

    fn customer(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let named = |txn: &Txn| match (wanted(request, "link"), wanted(request, "reference_id")) {
            (Some(link), _) => link.ends_with(&txn.id),
            (None, Some(order)) => {
                txn.order_id == order
                    && wanted(request, "account").is_none_or(|account| account == txn.account)
            }
            (None, None) => false,
        };
        let id = self
            .txns
            .iter()
            .rfind(|txn| named(txn))
            .map(|txn| txn.id.clone())
            .ok_or_else(|| Refused::unknown("no form of this order was posted"))?;
        self.act(act, &id, request, desk).map(Outcome::Done)
    }

    fn mirror(&mut self, mirror: &Mirror, desk: &mut Desk) {
        let Mirror::Payment {
            gateway,
            account,
            order_id,
            payment_id,
            amount,
            is_paid,
            ..
        } = mirror
        else {
            return;
        };
        if gateway != "zaakpay" || !self.accounts.contains_key(account) {
            return;
        }
        self.txns.push(Txn {
            id: payment_id.clone(),
            account: account.clone(),
            order_id: order_id.clone(),
            amount: *amount,
            return_url: String::new(),
            description: "NA".to_owned(),
            method: "UPI",
            state: if *is_paid {
                State::Captured
            } else {
                State::Declined
            },
            created_at: desk.now(),
            changed_at: desk.now(),
            refunds: Vec::new(),
        });
        self.report(payment_id, desk);
    }

    /// By `merchantRefId`: Zaakpay gives a refund no id of its own.
    fn settle_refund(
        &mut self,
        id: &str,
        status: &str,
        _speed: Option<&str>,
        desk: &mut Desk,
    ) -> Result<Value, Refused> {
        let status = match status {
            "processed" => "processed",
            "failed" => "failed",
            _ => return Err(Refused::invalid("status must be processed or failed")),
        };
        let now = desk.now();
        for txn in &mut self.txns {
            let Some(refund) = txn.refunds.iter_mut().find(|refund| refund.name == id) else {
                continue;
            };
            if refund.status != "pending" {
                return Err(Refused::conflict(
                    "not_pending",
                    format!("the refund is {}", refund.status),
                ));
            }
            refund.status = status;
            refund.is_shown = true;
            txn.changed_at = now;
            return Ok(json!({"merchantRefId": id, "status": status, "amount": refund.amount}));
        }
        Err(Refused::unknown(format!("no refund {id:?}")))
    }

    /// The body is `txnData`.
    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        signature: Option<&str>,
        _desk: &mut Desk,
    ) -> Result<HookDraft, Refused> {
        let account = match account {
            Some(name) => self.accounts.get(name),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such Zaakpay account"))?;
        let data = String::from_utf8(body)
            .map_err(|error| Refused::invalid(format!("txnData must be text: {error}")))?;
        draft(account, "forged", &data, None, true, signature)
            .ok_or_else(|| Refused::unknown("the account has no webhook_url"))
    }
}

/// Signs a webhook ("Webhooks", checksum calculation: "on the entire JSON value of txnData").
fn draft(
    account: &Account,
    event: &str,
    data: &str,
    order_id: Option<&str>,
    is_real_time: bool,
    signature: Option<&str>,
) -> Option<HookDraft> {
    let url = account.webhook_url.clone()?;
    let joint = if url.contains('?') { '&' } else { '?' };
    let checksum = signature.map_or_else(
        || hmac_sha256_hex(account.secret_key.as_bytes(), data.as_bytes()),
        str::to_owned,
    );
    let (kind, body) = match account.webhook_body {
        HookBody::Form => (
            "application/x-www-form-urlencoded",
            format!("txnData={}&checksum={}", encoded(data), encoded(&checksum)),
        ),
        HookBody::Json => (
            "application/json",
            format!("{{\"txnData\":{data},\"checksum\":{}}}", json!(checksum)),
        ),
        HookBody::JsonText => (
            "application/json",
            json!({"txnData": data, "checksum": checksum}).to_string(),
        ),
    };
    Some(HookDraft {
        vendor: "zaakpay",
        account: account.merchant_identifier.clone(),
        event: event.to_owned(),
        reference_id: order_id.map(str::to_owned),
        url: format!("{url}{joint}realtime={is_real_time}"),
        headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        body: body.into_bytes(),
    })
}

/// As the sample is encoded: blanks as plus signs.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
        .to_string()
        .replace("%20", "+")
}

/// `yyyy-MM-dd HH:mm:ss` of "Check Transaction Status API".
fn dashed(seconds: i64) -> String {
    let (date, time) = date_and_time(seconds, INDIA);
    format!("{date} {time}")
}

/// `MM/dd/yyyy HH:mm:ss` of `pgTransTime`.
fn slashed(seconds: i64) -> String {
    let (date, time) = date_and_time(seconds, INDIA);
    let mut parts = date.split('-');
    let year = parts.next().unwrap_or_default();
    let month = parts.next().unwrap_or_default();
    let day = parts.next().unwrap_or_default();
    format!("{month}/{day}/{year} {time}")
}

/// The outcome as the checkout tells it: webhook and browser get the same fields.
fn outcome(txn: &Txn) -> BTreeMap<&'static str, String> {
    let code = match txn.state {
        State::Captured => "100",
        State::Canceled => "102",
        _ => "400",
    };
    RESPONSE_FIELDS
        .split_whitespace()
        .map(|name| {
            let value = match name {
                "amount" => txn.amount.to_string(),
                "doRedirect" => "false".to_owned(),
                "orderId" => txn.order_id.clone(),
                "paymentMode" => txn.method.to_owned(),
                "responseCode" => code.to_owned(),
                "responseDescription" => words(code).to_owned(),
                "productDescription" => txn.description.clone(),
                "pgTransId" => txn.id.clone(),
                "pgTransTime" => slashed(txn.changed_at),
                _ => "NA".to_owned(),
            };
            (name, value)
        })
        .collect()
}

/// What the browser carries back: every field that is there counts, also an empty one.
fn returned(txn: &Txn, secret: &str) -> Vec<(String, String)> {
    let fields = outcome(txn);
    let text: String = RESPONSE_FIELDS
        .split_whitespace()
        .filter_map(|name| Some(format!("{name}={}&", fields.get(name)?)))
        .collect();
    let mut pairs: Vec<(String, String)> = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    pairs.push((
        "checksum".to_owned(),
        hmac_sha256_hex(secret.as_bytes(), text.as_bytes()),
    ));
    pairs
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

impl Zaakpay {
    fn txn(&self, id: &str) -> Option<&Txn> {
        self.txns.iter().find(|txn| txn.id == id)
    }

    /// The order a status or update call is about: the paid attempt, else the last.
    fn order(&self, account: &str, order_id: &str) -> Option<&Txn> {
        let ours = |txn: &&Txn| txn.account == account && txn.order_id == order_id;
        self.txns
            .iter()
            .find(|txn| ours(txn) && txn.state == State::Captured)
            .or_else(|| self.txns.iter().rfind(ours))
    }

    /// "Web Redirection flow". How a refused form looks is not documented: a page with the code.
    fn transact(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let form = call.form().unwrap_or_default();
        match self.read_form(&form, desk) {
            Ok(txn) => {
                let id = txn.id.clone();
                self.txns.push(txn);
                self.page(&id)
            }
            Err(code) => {
                let why = words(code);
                // The older table prints 110 twice.
                let code = code.trim_end_matches(" order");
                let body = format!(
                    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Zaakpay</title><p>{code}: {why}</html>"
                );
                let order = form.iter().find(|(name, _)| name == "orderId");
                let answer = Answer::html(400, body);
                match order {
                    Some((_, order)) => answer.about(order),
                    None => answer,
                }
            }
        }
    }

    fn read_form(&self, form: &[(String, String)], desk: &mut Desk) -> Result<Txn, &'static str> {
        let field = |name: &str| {
            let mut found = form.iter().filter(|(n, _)| n == name);
            let first = found.next().map(|(_, value)| value.as_str());
            if found.next().is_some() { None } else { first }.filter(|value| !value.is_empty())
        };
        let merchant = field("merchantIdentifier").ok_or("110")?;
        let account = self.accounts.get(merchant).ok_or("111")?;
        let checksum = field("checksum").ok_or("189")?;
        let text: String = REQUEST_FIELDS
            .split_whitespace()
            .filter_map(|name| Some(format!("{name}={}&", field(name)?)))
            .collect();
        if hmac_sha256_hex(account.secret_key.as_bytes(), text.as_bytes()) != checksum {
            return Err("180");
        }
        let is_known =
            |name: &str| name == "checksum" || REQUEST_FIELDS.split_whitespace().any(|n| n == name);
        if form.iter().any(|(name, _)| !is_known(name)) || field("currency") != Some("INR") {
            return Err("109");
        }
        if field("mode").is_some_and(|mode| !["0", "1"].contains(&mode)) {
            return Err("156");
        }
        let order_id = field("orderId").ok_or("129")?;
        if order_id.len() > 20 || !order_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err("130");
        }
        let email = field("buyerEmail").ok_or("133")?;
        if email
            .split_once('@')
            .is_none_or(|(name, host)| name.is_empty() || !host.contains('.'))
        {
            return Err("134");
        }
        let amount: i64 = field("amount")
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or("107")?;
        if !(LEAST_PAISE..=MOST_PAISE).contains(&amount) {
            return Err("107");
        }
        let is_taken = self.txns.iter().any(|txn| {
            txn.account == merchant
                && txn.order_id == order_id
                && (account.repeat_order_id == Repeat::Never
                    || matches!(txn.state, State::Captured | State::Authorized))
        });
        if is_taken {
            return Err("110 order");
        }
        Ok(Txn {
            // As in the samples: ZP and 13 small hex digits.
            id: format!(
                "ZP{}",
                hex::encode(desk.id(7)).chars().take(13).collect::<String>()
            ),
            account: merchant.to_owned(),
            order_id: order_id.to_owned(),
            amount,
            return_url: field("returnUrl").unwrap_or_default().to_owned(),
            description: field("productDescription").unwrap_or("NA").to_owned(),
            method: "UPI",
            state: State::Initiated,
            created_at: desk.now(),
            changed_at: desk.now(),
            refunds: Vec::new(),
        })
    }

    /// Zaakpay's own page, with a button for each outcome.
    fn page(&self, id: &str) -> Answer {
        let Some(txn) = self.txn(id) else {
            return Answer::html(
                404,
                "<!doctype html><title>Unknown payment</title>".to_owned(),
            );
        };
        let buttons: String = if txn.state == State::Initiated {
            ["pay", "fail", "cancel"]
                .iter()
                .map(|act| {
                    format!("<form method=\"post\" action=\"/zaakpay/checkout/{id}/{act}\"><button>{act}</button></form>")
                })
                .collect()
        } else {
            String::new()
        };
        let (rupees, paise) = (txn.amount / 100, txn.amount % 100);
        let (code, _) = txn.codes();
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Zaakpay</title>\
             <h1>Rs. {rupees}.{paise:02}</h1><p>{}<p>{}{buttons}</html>",
            escaped(&txn.description),
            words(code)
        );
        Answer::html(200, body).about(&txn.order_id)
    }

    /// A button of that page: it happens, and the browser is told to post it to the shop.
    fn tap(&mut self, id: &str, act: &str, desk: &mut Desk) -> Answer {
        let act = match act {
            "pay" => Act::Pay,
            "fail" => Act::Fail,
            "cancel" => Act::Cancel,
            _ => return self.page(id),
        };
        if self.act(act, id, &json!({}), desk).is_err() {
            return self.page(id);
        }
        let Some(txn) = self.txn(id).filter(|txn| !txn.return_url.is_empty()) else {
            return self.page(id);
        };
        let secret = self
            .accounts
            .get(&txn.account)
            .map_or("", |account| account.secret_key.as_str());
        let fields: String = returned(txn, secret)
            .iter()
            .map(|(name, value)| {
                format!(
                    "<input type=\"hidden\" name=\"{name}\" value=\"{}\">",
                    escaped(value)
                )
            })
            .collect();
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Zaakpay</title>\
             <form method=\"post\" action=\"{}\">{fields}<button>Back to the shop</button></form>\
             <script>document.forms[0].submit()</script></html>",
            escaped(&txn.return_url)
        );
        Answer::html(200, body).about(&txn.order_id)
    }

    /// What a customer does on that page.
    fn act(
        &mut self,
        act: Act,
        id: &str,
        request: &Value,
        desk: &mut Desk,
    ) -> Result<Value, Refused> {
        let now = desk.now();
        let is_late = request.get("late") == Some(&Value::Bool(true));
        let txn = self
            .txns
            .iter_mut()
            .find(|txn| txn.id == id)
            .ok_or_else(|| Refused::unknown(format!("no payment {id:?}")))?;
        let was = txn.state;
        txn.state = match (act, was) {
            (Act::Pay, State::Initiated)
                if request.get("authorize_only") == Some(&Value::Bool(true)) =>
            {
                State::Authorized
            }
            (Act::Pay, State::Initiated) => State::Captured,
            // The bank's reconciliation turns a declined payment into a paid one.
            (Act::Pay, State::Declined | State::Canceled) if is_late => State::Captured,
            (Act::Fail, State::Initiated) => State::Declined,
            (Act::Cancel, State::Initiated) => State::Canceled,
            (Act::Message | Act::Read, _) => {
                return Err(Refused::invalid("Zaakpay carries no messages"));
            }
            (_, State::Captured | State::Authorized) => {
                return Err(Refused::conflict("already_paid", "the order is paid"));
            }
            _ => return Err(Refused::conflict("not_payable", "this attempt is over")),
        };
        if let Some(amount) = request.get("amount").and_then(Value::as_i64) {
            txn.amount = amount;
        }
        txn.method = match wanted(request, "method") {
            Some("card") => "Credit Card",
            Some("netbanking") => "Net Banking",
            Some("wallet") => "Wallet",
            _ => "UPI",
        };
        txn.changed_at = now;
        let (code, _) = txn.codes();
        let done = json!({
            "vendor": "zaakpay", "payment_id": txn.id, "order_id": txn.order_id, "reference_id": txn.order_id,
            "status": match txn.state {
                State::Captured => "captured",
                State::Authorized => "authorized",
                _ => "failed",
            },
            "code": code, "return_url": txn.return_url,
        });
        if was != State::Initiated {
            self.report_reconciled(id, desk);
        } else if txn.state != State::Authorized {
            self.report(id, desk);
        }
        Ok(done)
    }

    /// "Real Time Webhook": "for all the transactions that got successful or declined in real time".
    fn report(&self, id: &str, desk: &mut Desk) {
        let Some(txn) = self.txn(id) else { return };
        let Some(account) = self.accounts.get(&txn.account) else {
            return;
        };
        let mut fields: serde_json::Map<String, Value> = outcome(txn)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        fields.insert(
            "txnDate".to_owned(),
            format!("{}.36", dashed(txn.changed_at)).into(),
        );
        let data = json!({"merchantIdentifier": account.merchant_identifier, "txns": [fields]});
        let event = if txn.state == State::Captured {
            "txn.success"
        } else {
            "txn.failed"
        };
        post(account, event, &data, &txn.order_id, true, desk);
    }

    /// "Non Real Time Webhook": no code, no transaction, the order number in small letters and the amount a number.
    fn report_reconciled(&self, id: &str, desk: &mut Desk) {
        let Some(txn) = self.txn(id) else { return };
        let Some(account) = self.accounts.get(&txn.account) else {
            return;
        };
        let data = json!({"merchantIdentifier": account.merchant_identifier, "txns": [{
            "amount": txn.amount, "orderid": txn.order_id, "txnDate": format!("{}.0", dashed(txn.created_at)),
        }]});
        post(account, "txn.reconciled", &data, &txn.order_id, false, desk);
    }

    /// The form both calls take: `data` and the checksum of its text, without `data=` (the printed value for updateTxn).
    fn read_data(&self, call: &Call) -> Result<(Account, Value), &'static str> {
        let form = call.form().ok_or("189")?;
        let field = |wanted: &str| {
            let found = form
                .iter()
                .find(|(name, value)| name == wanted && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        let data = field("data").ok_or("110")?;
        let checksum = field("checksum").ok_or("189")?;
        let document: Value = serde_json::from_str(data).map_err(|_| "110")?;
        let merchant = document
            .get("merchantIdentifier")
            .and_then(Value::as_str)
            .ok_or("110")?;
        let account = self.accounts.get(merchant).ok_or("111")?;
        if hmac_sha256_hex(account.secret_key.as_bytes(), data.as_bytes()) != checksum {
            return Err("180");
        }
        Ok((account.clone(), document))
    }

    /// "Check Transaction Status API". How an error is enveloped is not printed: beside the orders when the question is wrong, in
    /// an order when it is not known.
    fn check_txn(&self, call: &Call) -> Answer {
        let complaint = |code: &str| {
            Answer::json(
                200,
                &json!({"success": false, "responseCode": code, "responseDescription": words(code), "version": "5"}),
            )
        };
        let (account, data) = match self.read_data(call) {
            Ok(read) => read,
            Err(code) => return complaint(code),
        };
        let read = || -> Result<(String, Option<String>), Problem> {
            let fields = Fields::of(
                &data,
                "",
                &["merchantIdentifier", "mode", "orderDetail", "refundDetail"],
            )?;
            fields.need_word("mode", &["0"])?;
            let order = fields.need_object("orderDetail", &["orderId"])?;
            let order_id = order.text("orderId", 40)?.unwrap_or_default().to_owned();
            let refund = match fields.object("refundDetail", &["merchantRefId"])? {
                Some(refund) => refund.text("merchantRefId", 100)?.map(str::to_owned),
                None => None,
            };
            Ok((order_id, refund))
        };
        if call.param("v") != Some("5") {
            return complaint("109");
        }
        let (order_id, refund) = match read() {
            Ok(read) => read,
            Err(problem) => return complaint(problem_code(&problem)),
        };
        if order_id.is_empty() {
            return complaint("129");
        }
        let merchant = &account.merchant_identifier;
        let order = match self.order(merchant, &order_id) {
            Some(txn) => show(txn, &account, refund.as_deref()),
            None => json!({
                "orderDetail": {"orderId": order_id}, "responseCode": "205", "responseDescription": words("205"),
                "txnStatus": "1",
            }),
        };
        let body = json!({"success": true, "merchantIdentifier": merchant, "orders": [order], "version": "5"});
        let mut answer = Answer::json(200, &body).about(order_id);
        answer.account = Some(merchant.clone());
        answer
    }

    /// "Update/Refund API".
    fn update_txn(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let (account, data) = match self.read_data(call) {
            Ok(read) => read,
            Err(code) => {
                return Answer::json(
                    200,
                    &json!({"responseCode": code, "responseDescription": words(code)}),
                );
            }
        };
        let order_id = data
            .pointer("/orderDetail/orderId")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let code = self
            .update(&account, &data, &order_id, desk)
            .unwrap_or_else(|code| code);
        let mut body = json!({
            "merchantIdentifier": account.merchant_identifier, "orderDetail": {"orderId": order_id},
            "responseCode": code, "responseDescription": words(code),
        });
        if let (Some(name), Some(body)) = (data.get("merchantRefId"), body.as_object_mut()) {
            body.insert("merchantRefId".to_owned(), name.clone());
        }
        let mut answer = if account.xml {
            Answer::xml(
                200,
                format!(
                    "<?xml version=\"1.0\"?><zaakpay_response><response_element><merchantid>{}</merchantid><orderid>{order_id}</orderid>\
                     <responsecode>{code}</responsecode><description>{}</description></response_element></zaakpay_response>",
                    account.merchant_identifier,
                    words(code)
                ),
            )
        } else {
            Answer::json(200, &body)
        };
        answer.account = Some(account.merchant_identifier);
        answer.about(order_id)
    }

    fn update(
        &mut self,
        account: &Account,
        data: &Value,
        order_id: &str,
        desk: &mut Desk,
    ) -> Result<&'static str, &'static str> {
        let fields = Fields::of(
            data,
            "",
            &[
                "merchantIdentifier",
                "orderDetail",
                "mode",
                "updateDesired",
                "updateReason",
                "merchantRefId",
            ],
        )
        .map_err(|problem| problem_code(&problem))?;
        let detail = fields
            .need_object("orderDetail", &["orderId", "amount", "productDescription"])
            .map_err(|problem| problem_code(&problem))?;
        let text = |name: &str| {
            data.get(name)
                .and_then(Value::as_str)
                .filter(|t| !t.is_empty())
        };
        fields
            .need_word("mode", &["0"])
            .map_err(|problem| problem_code(&problem))?;
        let desired = text("updateDesired").ok_or("184")?;
        let reason = text("updateReason").ok_or("186")?;
        let is_plain = reason
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b' ');
        if !is_plain || !(5..=30).contains(&reason.len()) {
            return Err("187");
        }
        if order_id.is_empty() {
            return Err("129");
        }
        // Text in the table and in the sample.
        let amount = match detail.text("amount", 12).map_err(|_| "109")? {
            None => None,
            Some(digits) => Some(
                digits
                    .parse::<i64>()
                    .ok()
                    .filter(|amount| *amount > 0 && digits.bytes().all(|b| b.is_ascii_digit()))
                    .ok_or("109")?,
            ),
        };
        let id = self
            .order(&account.merchant_identifier, order_id)
            .map(|txn| txn.id.clone())
            .ok_or("190")?;
        let arn = desk.digits(14);
        let now = desk.now();
        let txn = self.txns.iter_mut().find(|txn| txn.id == id).ok_or("190")?;
        let name = match text("merchantRefId") {
            Some(name) => name.to_owned(),
            None => arn.clone(),
        };
        match (desired, txn.state) {
            ("7", State::Authorized) => {
                txn.state = State::Captured;
                txn.changed_at = now;
                return Ok("242");
            }
            ("7", _) => return Err("229"),
            ("8", State::Authorized) => {
                txn.state = State::Canceled;
                txn.changed_at = now;
                return Ok("243");
            }
            ("8", _) => return Err("203"),
            ("14" | "22", State::Captured) => {}
            ("14" | "22", _) => return Err("201"),
            _ => return Err("185"),
        }
        let is_full = desired == "14";
        // Not printed for one that is done; while one is scheduled the table tells.
        let is_pending = |refund: &Refund| refund.status == "pending";
        if txn.refunds.iter().any(|refund| refund.name == name) {
            return Err(match (txn.refunds.iter().any(is_pending), is_full) {
                (false, _) => "201",
                (true, true) => "20",
                (true, false) => "21",
            });
        }
        if account.settled {
            return Err("844");
        }
        if now.saturating_sub(txn.created_at) > REFUNDABLE {
            return Err("846");
        }
        let left = txn.amount.saturating_sub(txn.refunded());
        let amount = if is_full {
            if left < txn.amount {
                return Err(if txn.refunds.iter().any(is_pending) {
                    "20"
                } else {
                    "201"
                });
            }
            txn.amount
        } else {
            amount.ok_or("109")?
        };
        if amount > left {
            return Err("201");
        }
        if account.balance.is_some_and(|balance| amount > balance) {
            return Err("843");
        }
        let status = match account.refunds {
            RefundsEnd::Processed => "processed",
            RefundsEnd::Pending | RefundsEnd::Scheduled => "pending",
            RefundsEnd::Failed => "failed",
        };
        txn.refunds.push(Refund {
            name,
            amount,
            arn,
            status,
            is_shown: account.refunds != RefundsEnd::Scheduled,
        });
        txn.changed_at = now;
        Ok(match (account.refunds, is_full) {
            (RefundsEnd::Scheduled, _) => "19",
            (_, true) => "230",
            (_, false) => "245",
        })
    }
}

/// What a problem with a field is called; "Validation Failed." where the tables have no name for it.
fn problem_code(problem: &Problem) -> &'static str {
    match problem {
        Problem::Missing { path } if path == "mode" => "155",
        Problem::Value { path, .. } if path == "mode" => "156",
        Problem::Missing { path } | Problem::Value { path, .. }
            if path.starts_with("orderDetail") =>
        {
            "129"
        }
        _ => "109",
    }
}

fn post(
    account: &Account,
    event: &str,
    data: &Value,
    order_id: &str,
    is_real_time: bool,
    desk: &mut Desk,
) {
    // The vendor's serialiser escapes slashes; they stand in texts only.
    let text = data.to_string().replace('/', "\\/");
    let urls = account.webhook_url.iter().chain(&account.more_webhook_urls);
    for url in urls {
        let told = Account {
            webhook_url: Some(url.clone()),
            ..account.clone()
        };
        if let Some(draft) = draft(&told, event, &text, Some(order_id), is_real_time, None) {
            desk.send(draft);
        }
    }
}

/// An order of the status call.
fn show(txn: &Txn, account: &Account, asked: Option<&str>) -> Value {
    let (mut code, mut txn_status) = txn.codes();
    let listed: Vec<&Refund> = txn
        .refunds
        .iter()
        .filter(|refund| refund.is_shown && refund.status != "failed")
        .filter(|refund| asked.is_none_or(|name| refund.name == name))
        .collect();
    let failed = |refund: &Refund| asked == Some(refund.name.as_str()) && refund.status == "failed";
    if txn.refunds.iter().any(failed) {
        // "When failure is recieved in check status , then retry".
        (code, txn_status) = ("201", "1");
    }
    let mut order = json!({
        "orderDetail": {
            "orderId": txn.order_id, "txnId": txn.id, "amount": txn.amount.to_string(),
            "productDescription": txn.description, "createDate": dashed(txn.created_at),
            "product1Description": "NA", "product2Description": "NA", "product3Description": "NA", "product4Description": "NA",
        },
        "paymentInstrument": {"paymentMode": txn.method},
        "responseCode": code, "responseDescription": words(code),
        "txnDate": dashed(txn.changed_at), "txnStatus": txn_status,
        "userAccountDebited": txn.state == State::Captured,
    });
    if !listed.is_empty()
        && let Some(order) = order.as_object_mut()
    {
        let refunds: Vec<Value> = listed
            .iter()
            .map(|refund| {
                let mut shown = json!({"amount": refund.amount.to_string(), "arn": refund.arn});
                if let (true, Some(shown)) = (account.refunds_named, shown.as_object_mut()) {
                    shown.insert("merchantRefId".to_owned(), refund.name.as_str().into());
                }
                shown
            })
            .collect();
        order.insert("refundDetails".to_owned(), refunds.into());
    }
    order
}
