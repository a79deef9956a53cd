//! PayU India: OAuth tokens, payment links, postservice commands, refunds, and the webhooks of all of them.
//!
//! Written from docs.payu.in (copies of 2024 to 2026); the page is named where a rule stands. Hashes as npm payu-websdk 1.3.1 makes
//! them. What the documents leave open is decided here and said so.

use std::collections::{BTreeMap, HashMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Act, Outcome, Refused, Vendor, merged, wanted};
use crate::calendar::{INDIA, date_and_time};
use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};
use crate::sign::sha512_hex;
use crate::strict::{Fields, Problem};

/// "Create a Payment Link API", subAmount: at least one rupee.
const LEAST_PAISE: i64 = 100;
/// "Error Codes for Refund Initiation", 214.
const SAME_AMOUNT_PAUSE: i64 = 300;
/// "Refund Status Callback", token: 23 characters.
const LONGEST_TOKEN: usize = 23;
/// "Additional Info for Payment APIs", udf1 to udf5.
const LONGEST_UDF: usize = 255;
/// PayU's own SDK for links: a link without an expiry lives a year.
const LIFE: i64 = 365 * 86_400;

const UDF: [&str; 5] = ["udf1", "udf2", "udf3", "udf4", "udf5"];

/// "Get Token API - Payment Links", scope.
const SCOPES: [&str; 3] = [
    "create_payment_links",
    "update_payment_links",
    "read_payment_links",
];

const OPERATIONS: &[&str] = &[
    "token",
    "create_payment_link",
    "get_payment_link",
    "get_link_transactions",
    "update_payment_link",
    "verify_payment",
    "check_payment",
    "cancel_refund_transaction",
    "check_action_status",
    "payment_page",
    "unknown",
];

/// "Payment Links", webhooks; "Webhook Events and Sample Payloads".
const EVENTS: &[&str] = &[
    "payment_success",
    "payment_failure",
    "payment_pending",
    "refund",
    "forged",
];

/// As in a form: blanks are `+`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'*')
    .remove(b' ');

/// How the refunds of an account end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum RefundsEnd {
    #[default]
    Processed,
    Pending,
    Failed,
}

/// Which number a link's payment gets; the documents do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum LinkTxnid {
    /// One of PayU's own, as in the sample of "Get Transaction Details".
    #[default]
    Own,
    /// The link's.
    Invoice,
}

/// How payments are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum WebhookBody {
    #[default]
    Form,
    /// The same fields and hash, where the account is set so.
    Json,
}

/// Which secret is in the hash of a link's payment; the documents say both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum LinkHash {
    #[default]
    Salt,
    ClientSecret,
}

/// An account, as `POST /_control/accounts` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    key: String,
    salt: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    client_secret: String,
    #[serde(default)]
    merchant_id: String,
    #[serde(default)]
    webhook_url: Option<String>,
    /// Further addresses that hear of everything, of merchants who share the account.
    #[serde(default)]
    more_webhook_urls: Vec<String>,
    #[serde(default)]
    webhook_body: WebhookBody,
    #[serde(default)]
    link_hash: LinkHash,
    /// What the account can give back, in paise; without end if left out.
    #[serde(default)]
    balance: Option<i64>,
    /// Which events its webhook is subscribed to; all if left out.
    #[serde(default)]
    events: Option<Vec<String>>,
    #[serde(default)]
    refunds: RefundsEnd,
    #[serde(default)]
    link_txnid: LinkTxnid,
    /// A surcharge that payments carry, e.g. `11.80`.
    #[serde(default)]
    charges: Option<String>,
    /// HTTP status of refusals of the link API; not documented.
    #[serde(default = "ok")]
    refusal_status: u16,
    /// How long tokens live, in seconds. The samples have 7200.
    #[serde(default = "two_hours")]
    token_life: i64,
}

const fn ok() -> u16 {
    200
}

const fn two_hours() -> i64 {
    7200
}

#[derive(Debug, Clone)]
struct Token {
    account: String,
    scopes: Vec<String>,
    ends_at: i64,
}

#[derive(Debug, Clone)]
struct Link {
    account: String,
    page: String,
    invoice: String,
    amount: i64,
    collected: i64,
    description: String,
    udf: [String; 5],
    name: String,
    phone: String,
    email: String,
    success_url: Option<String>,
    failure_url: Option<String>,
    payments_allowed: i64,
    payments_made: i64,
    expires_at: i64,
    active: bool,
    created_at: i64,
    payments: Vec<String>,
}

impl Link {
    /// "Payment Links", key concepts: expired also when it was paid as often as it may be.
    fn status(&self, now: i64) -> &'static str {
        if !self.active {
            "inactive"
        } else if now >= self.expires_at || self.payments_made >= self.payments_allowed {
            "expired"
        } else {
            "active"
        }
    }

    /// What a test calls the order: what the merchant wrote first into `udf1`.
    fn reference(&self) -> &str {
        match self.udf.first().and_then(|udf1| udf1.split(':').next()) {
            Some(named) if !named.is_empty() => named,
            _ => &self.invoice,
        }
    }
}

#[derive(Debug, Clone)]
struct Payment {
    account: String,
    mihpayid: String,
    txnid: String,
    reference: String,
    of_link: bool,
    amount: i64,
    refunded: i64,
    status: &'static str,
    unmapped: &'static str,
    mode: String,
    udf: [String; 5],
    productinfo: String,
    firstname: String,
    email: String,
    phone: String,
    error: &'static str,
    bank_ref: String,
    request_id: String,
    created_at: i64,
    refunds: Vec<String>,
}

#[derive(Debug, Clone)]
struct Refund {
    account: String,
    request_id: String,
    mihpayid: String,
    token: String,
    amount: i64,
    /// The sandbox's word.
    status: &'static str,
    arn: String,
    created_at: i64,
}

/// PayU.
#[derive(Debug, Default)]
pub(crate) struct Payu {
    accounts: BTreeMap<String, Account>,
    said: BTreeMap<String, Value>,
    tokens: HashMap<String, Token>,
    links: BTreeMap<(String, String), Link>,
    pages: HashMap<String, (String, String)>,
    payments: BTreeMap<String, Payment>,
    refunds: BTreeMap<String, Refund>,
}

type Reply = Result<Answer, Box<Answer>>;

/// The link API's envelope.
fn envelope(http: u16, status: i64, message: Option<&str>, result: Value) -> Answer {
    Answer::json(
        http,
        &json!({"status": status, "message": message, "result": result, "errorCode": null, "guid": null}),
    )
}

fn info(status: i64, msg: &str, more: Value) -> Answer {
    let mut body = json!({"status": status, "msg": msg});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    Answer::json(200, &body)
}

/// "Error Codes for Refund Initiation".
fn refund_error(code: i64) -> Answer {
    let msg = match code {
        105 => "Invalid Amount",
        106 => "Token already exists",
        111 => "Invalid transaction status",
        116 => "Transaction not found",
        120 => "Transaction lock could not be obtained",
        214 => "Same amount same transaction within 5 minutes",
        225 => "Overdraft has occurred. Kindly recheck the status tomorrow",
        227 => "Transactions with the same amount and same token are not allowed",
        238 => "Validation Failure for var2. Mandatory Field.",
        _ => "FAILURE",
    };
    info(0, msg, json!({"error_code": code}))
}

fn problem_text(problem: &Problem) -> String {
    match problem {
        Problem::Unknown { path } => format!("{path} is not a field of this request"),
        Problem::Missing { path } => format!("{path} is mandatory"),
        Problem::Type { path, wanted } => format!("{path} must be {wanted}"),
        Problem::Value { path, why } => format!("{path}: {why}"),
    }
}

/// Rupees with two decimals.
fn decimal(paise: i64) -> String {
    format!("{}.{:02}", paise.div_euclid(100), paise.rem_euclid(100))
}

/// Rupees as the link API writes them: a JSON number.
fn to_number(paise: i64) -> Value {
    if paise.rem_euclid(100) == 0 {
        return paise.div_euclid(100).into();
    }
    // The text of an exact decimal, read back by the JSON parser; nothing is calculated with it.
    serde_json::from_str(&decimal(paise)).unwrap_or_default()
}

/// Paise of a decimal text with at most two decimals.
fn paise(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let part = format!("{part:0<2}");
    whole
        .parse::<i64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(part.parse().ok()?)
}

/// `yyyy-MM-dd HH:mm:ss` of a Unix time, in India.
fn indian(seconds: i64) -> String {
    let (date, time) = date_and_time(seconds, INDIA);
    format!("{date} {time}")
}

/// Reads what [`indian`] writes.
fn read_indian(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let numbers = |text: &str, by: char, lengths: [usize; 3]| -> Option<[i64; 3]> {
        let mut parts = text.split(by);
        let mut found = [0; 3];
        for (slot, length) in found.iter_mut().zip(lengths) {
            let part = parts.next().filter(|p| p.len() == length)?;
            *slot = part.parse().ok()?;
        }
        parts.next().is_none().then_some(found)
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    // Days since 1970 of a civil date, with the year beginning in March.
    let shifted = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let of_year = (153_i64
        .checked_mul(month.checked_add(if month > 2 { -3 } else { 9 })?)?
        .checked_add(2)?)
        / 5;
    let days = shifted
        .checked_mul(365)?
        .checked_add(shifted / 4)?
        .checked_sub(shifted / 100)?
        .checked_add(shifted / 400)?
        .checked_add(of_year)?
        .checked_add(day.checked_sub(1)?)?
        .checked_sub(719_468)?;
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?
        .checked_sub(INDIA)?;
    // Only what is written the same way is a date at all.
    (indian(seconds) == text).then_some(seconds)
}

fn encode(pairs: &[(String, String)]) -> Vec<u8> {
    let part = |text: &str| {
        utf8_percent_encode(text, FORM)
            .to_string()
            .replace(' ', "+")
    };
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", part(name), part(value)))
        .collect::<Vec<_>>()
        .join("&")
        .into_bytes()
}

/// The response hash: `[charges|]salt|status||||||udf5|…|udf1|email|firstname|productinfo|amount|txnid|key`.
fn response_hash(salt: &str, pairs: &[(String, String)]) -> String {
    let of = |name: &str| {
        pairs
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value.as_str())
    };
    let mut parts = vec![salt, of("status"), "", "", "", "", ""];
    parts.extend(UDF.iter().rev().map(|name| of(name)));
    parts.extend(
        [
            "email",
            "firstname",
            "productinfo",
            "amount",
            "txnid",
            "key",
        ]
        .map(of),
    );
    let mut message = parts.join("|");
    let charges = of("additionalCharges");
    if !charges.is_empty() {
        message = format!("{charges}|{message}");
    }
    sha512_hex(message.as_bytes())
}

impl Vendor for Payu {
    fn name(&self) -> &'static str {
        "payu"
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
            ("POST", ["oauth", "token"]) => "token",
            ("POST", ["payment-links"]) => "create_payment_link",
            ("GET", ["payment-links", _]) => "get_payment_link",
            ("GET", ["payment-links", _, "txns"]) => "get_link_transactions",
            ("PUT", ["payment-links", _]) => "update_payment_link",
            ("POST", ["merchant", "postservice.php" | "postservice"]) => {
                let form = call.form().unwrap_or_default();
                let command = form.iter().find(|(name, _)| name == "command");
                let known = |wanted: &&&str| command.is_some_and(|(_, c)| c == **wanted);
                OPERATIONS.iter().find(known).copied().unwrap_or("unknown")
            }
            ("GET" | "POST", ["pay", _]) => "payment_page",
            _ => "unknown",
        }
    }

    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let (method, segments) = call.route();
        match (method, segments.as_slice()) {
            ("POST", ["oauth", "token"]) => self.token(call, desk).unwrap_or_else(|answer| *answer),
            ("POST", ["merchant", "postservice.php" | "postservice"]) => {
                self.postservice(call, desk)
            }
            (_, ["payment-links", ..]) => {
                let account = match self.authorize(call, desk) {
                    Ok(account) => account,
                    Err(answer) => return *answer,
                };
                let result = match (method, segments.as_slice()) {
                    ("POST", ["payment-links"]) => self.create_link(&account, call, desk),
                    ("GET", ["payment-links", id]) => self.get_link(&account, id, desk),
                    ("GET", ["payment-links", id, "txns"]) => {
                        self.link_transactions(&account, id, call)
                    }
                    ("PUT", ["payment-links", id]) => self.update_link(&account, id, call, desk),
                    _ => Err(Box::new(Answer::json(404, &json!({"error": "Not Found"})))),
                };
                let mut answer = result.unwrap_or_else(|answer| *answer);
                answer.account = Some(account.key);
                answer
            }
            ("GET", ["pay", page]) => self.page(page, desk),
            ("POST", ["pay", page]) => self.pay_on_page(page, desk),
            _ => Answer::json(404, &json!({"error": "Not Found"})),
        }
    }

    fn error(&self, status: u16, code: Option<i64>, _desk: &mut Desk) -> Value {
        let answer = match code {
            Some(code @ 100..=399) => refund_error(code),
            // No page prints the body of a server error.
            _ => envelope(status, -1, Some("Something went wrong"), Value::Null),
        };
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    fn register(&mut self, account: &Value) -> Result<(), Refused> {
        let (key, said) = merged(&self.said, "key", account)?;
        let account: Account = serde_json::from_value(said.clone())
            .map_err(|error| Refused::invalid(format!("payu: {error}")))?;
        self.said.insert(key.clone(), said);
        self.accounts.insert(key, account);
        Ok(())
    }

    /// "There is no link-expired or cancelled event": nothing is told when a link ends.
    fn tick(&mut self, _desk: &mut Desk) {}

    fn owns(&self, link: &str) -> bool {
        link.contains("/payu/pay/")
    }

    fn link_facts(&self, link: &str) -> Option<(String, i64, i64)> {
        let link = self.by_page(link)?;
        Some((link.reference().to_owned(), link.amount, link.expires_at))
    }

    fn customer(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let link = match (wanted(request, "link"), wanted(request, "reference_id")) {
            (Some(link), _) => self.by_page(link),
            (None, Some(reference)) => self.links.values().find(|link| {
                (link.reference() == reference || link.invoice == reference)
                    && wanted(request, "account").is_none_or(|wanted| wanted == link.account)
            }),
            _ => return Err(Refused::invalid("link or reference_id is missing")),
        }
        .cloned()
        .ok_or_else(|| Refused::unknown("no such link"))?;
        let late = request.get("late") == Some(&Value::Bool(true));
        let status = link.status(desk.now());
        if status != "active" && !late {
            return Err(Refused::conflict(
                "not_payable",
                format!("the link is {status}"),
            ));
        }
        let flag = |name: &str| request.get(name) == Some(&Value::Bool(true));
        // "Payment State Explanations".
        let (status, unmapped) = match act {
            Act::Pay if flag("pending") => ("pending", "in progress"),
            Act::Pay if flag("authorize_only") => ("success", "auth"),
            Act::Pay => ("success", "captured"),
            Act::Fail => ("failure", "failed"),
            Act::Cancel => ("failure", "userCancelled"),
            Act::Message | Act::Read => {
                return Err(Refused::invalid("PayU carries no messages"));
            }
        };
        let amount = request
            .get("amount")
            .and_then(Value::as_i64)
            .unwrap_or(link.amount);
        if amount <= 0 {
            return Err(Refused::invalid("amount must be positive"));
        }
        let method = wanted(request, "method").unwrap_or("upi");
        Ok(Outcome::Done(
            self.attempt(&link, amount, status, unmapped, method, desk),
        ))
    }

    fn mirror(&mut self, mirror: &Mirror, desk: &mut Desk) {
        match mirror {
            Mirror::Payment {
                gateway,
                account,
                order_id,
                payment_id,
                amount,
                method,
                is_paid,
                extras,
            } if gateway == "payu" && self.accounts.contains_key(account) => {
                let udf = UDF.map(|name| {
                    let value = extras.get(name).and_then(Value::as_str);
                    value.unwrap_or_default().to_owned()
                });
                let payment = Payment {
                    account: account.clone(),
                    mihpayid: payment_id.clone(),
                    txnid: order_id.clone(),
                    reference: order_id.clone(),
                    of_link: false,
                    amount: *amount,
                    refunded: 0,
                    status: if *is_paid { "success" } else { "failure" },
                    unmapped: if *is_paid { "captured" } else { "failed" },
                    mode: mode(method),
                    udf,
                    productinfo: "WhatsApp".to_owned(),
                    firstname: String::new(),
                    email: String::new(),
                    phone: "9000090000".to_owned(),
                    error: if *is_paid { "E000" } else { "E308" },
                    bank_ref: desk.digits(12),
                    request_id: desk.digits(9),
                    created_at: desk.now(),
                    refunds: Vec::new(),
                };
                self.payments.insert(payment_id.clone(), payment);
                self.tell_payment(payment_id, desk);
            }
            Mirror::Refund {
                from,
                payment_id,
                refund_id,
                amount,
                status,
            } if *from != "payu" => {
                let Some(payment) = self.payments.get_mut(payment_id) else {
                    return;
                };
                if !self.refunds.contains_key(refund_id) {
                    payment.refunded = payment.refunded.saturating_add(*amount);
                    payment.refunds.push(refund_id.clone());
                    let refund = Refund {
                        account: payment.account.clone(),
                        request_id: refund_id.clone(),
                        mihpayid: payment_id.clone(),
                        token: String::new(),
                        amount: *amount,
                        status: "pending",
                        arn: String::new(),
                        created_at: desk.now(),
                    };
                    self.refunds.insert(refund_id.clone(), refund);
                }
                if *status != "pending" {
                    self.end_refund(refund_id, status, desk);
                }
            }
            _ => {}
        }
    }

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
        match self.refunds.get(id) {
            None => return Err(Refused::unknown(format!("no refund {id:?}"))),
            Some(refund) if refund.status != "pending" => {
                return Err(Refused::conflict(
                    "not_pending",
                    format!("the refund is {}", refund.status),
                ));
            }
            Some(_) => {}
        }
        self.end_refund(id, status, desk);
        self.mirror_refund(id, desk);
        Ok(self
            .refunds
            .get(id)
            .map(|refund| self.show_refund(refund))
            .unwrap_or_default())
    }

    /// A form's hash stands in its body: JSON fields become a form with one, text that has none gets one, text that has one goes out
    /// as it is. A refund callback (`"action"`) is JSON without a hash.
    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        signature: Option<&str>,
        _desk: &mut Desk,
    ) -> Result<HookDraft, Refused> {
        let account = match account {
            Some(key) => self.accounts.get(key),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such PayU account"))?;
        let url = account
            .webhook_url
            .clone()
            .ok_or_else(|| Refused::unknown("the account has no webhook_url"))?;
        let document: Option<Map<String, Value>> = serde_json::from_slice(&body).ok();
        let (kind, body) = match document {
            Some(fields) if fields.contains_key("action") => ("application/json", body),
            Some(fields) => {
                let pairs: Vec<(String, String)> = fields
                    .iter()
                    .map(|(name, value)| {
                        let text = value.as_str().map(str::to_owned);
                        (name.clone(), text.unwrap_or_else(|| value.to_string()))
                    })
                    .collect();
                ("form", sealed(account, pairs, signature))
            }
            None => {
                let call = Call {
                    method: String::new(),
                    path: String::new(),
                    segments: Vec::new(),
                    query: Vec::new(),
                    headers: vec![("content-type".to_owned(), FORM_TYPE.to_owned())],
                    body: body.clone(),
                };
                let pairs = call.form().unwrap_or_default();
                let hash = match signature {
                    _ if pairs.iter().any(|(name, _)| name == "hash") => None,
                    Some(signature) => Some(signature.to_owned()),
                    None => Some(response_hash(&account.salt, &pairs)),
                };
                let mut body = body;
                if let Some(hash) = hash {
                    body.extend(format!("&hash={hash}").into_bytes());
                }
                ("form", body)
            }
        };
        let kind = if kind == "form" { FORM_TYPE } else { kind };
        Ok(HookDraft {
            vendor: "payu",
            account: account.key.clone(),
            event: "forged".to_owned(),
            reference_id: None,
            url,
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
            body,
        })
    }
}

const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// The fields with the hash at their end.
fn sealed(account: &Account, mut pairs: Vec<(String, String)>, signature: Option<&str>) -> Vec<u8> {
    let hash = match signature {
        Some(signature) => signature.to_owned(),
        None => response_hash(&account.salt, &pairs),
    };
    pairs.retain(|(name, _)| name != "hash");
    pairs.push(("hash".to_owned(), hash));
    encode(&pairs)
}

/// PayU's word for a way to pay.
fn mode(method: &str) -> String {
    match method {
        "card" => "CC".to_owned(),
        "netbanking" => "NB".to_owned(),
        "wallet" => "CASH".to_owned(),
        other => other.to_uppercase(),
    }
}

impl Payu {
    fn by_page(&self, link: &str) -> Option<&Link> {
        let page = link.rsplit('/').next().unwrap_or(link);
        self.links.get(self.pages.get(page)?)
    }

    /// "Get Token API - Payment Links". Errors as RFC 6749 has them; the page prints others for another path.
    fn token(&mut self, call: &Call, desk: &mut Desk) -> Reply {
        let refuse =
            |status: u16, error: &str| Box::new(Answer::json(status, &json!({"error": error})));
        let form = call.form().ok_or_else(|| refuse(400, "invalid_request"))?;
        let of = |name: &str| {
            let found = form.iter().find(|(n, _)| n == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        if of("grant_type") != "client_credentials" {
            return Err(refuse(400, "unsupported_grant_type"));
        }
        let account = self
            .accounts
            .values()
            .find(|a| !a.client_id.is_empty() && a.client_id == of("client_id"))
            .filter(|account| account.client_secret == of("client_secret"))
            .ok_or_else(|| refuse(401, "invalid_client"))?;
        let scopes: Vec<String> = of("scope").split_whitespace().map(str::to_owned).collect();
        if scopes.is_empty() || scopes.iter().any(|s| !SCOPES.contains(&s.as_str())) {
            return Err(refuse(400, "invalid_scope"));
        }
        let token = format!("{}{}", desk.id(32), desk.id(32)).to_lowercase();
        let life = account.token_life;
        self.tokens.insert(
            token.clone(),
            Token {
                account: account.key.clone(),
                scopes,
                ends_at: desk.now().saturating_add(life),
            },
        );
        let mut answer = Answer::json(
            200,
            &json!({
                "access_token": token, "token_type": "Bearer", "expires_in": life,
                "scope": of("scope"), "created_at": desk.now(),
            }),
        );
        answer.account = Some(account.key.clone());
        Ok(answer)
    }

    /// The token, its scope and the header `merchantId`. What a wrong one is answered with is not documented.
    fn authorize(&self, call: &Call, desk: &Desk) -> Result<Account, Box<Answer>> {
        let refuse =
            |status: u16, error: &str| Box::new(Answer::json(status, &json!({"error": error})));
        let token = call
            .header("authorization")
            .and_then(|header| header.strip_prefix("Bearer "))
            .and_then(|token| self.tokens.get(token))
            .filter(|token| token.ends_at > desk.now())
            .ok_or_else(|| refuse(401, "invalid_token"))?;
        let account = self
            .accounts
            .get(&token.account)
            .ok_or_else(|| refuse(401, "invalid_token"))?;
        let needed = match call.method.as_str() {
            "POST" => "create_payment_links",
            "PUT" => "update_payment_links",
            _ => "read_payment_links",
        };
        if !token.scopes.iter().any(|scope| scope == needed) {
            return Err(refuse(403, "insufficient_scope"));
        }
        if call.header("merchantid") != Some(account.merchant_id.as_str()) {
            return Err(refuse(403, "merchant mismatch"));
        }
        Ok(account.clone())
    }

    fn refuse(account: &Account, message: &str) -> Box<Answer> {
        Box::new(envelope(
            account.refusal_status,
            -1,
            Some(message),
            Value::Null,
        ))
    }

    fn json_body(account: &Account, call: &Call) -> Result<Value, Box<Answer>> {
        let is_json = call
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"));
        call.json()
            .filter(|_| is_json)
            .ok_or_else(|| Self::refuse(account, "the body is not JSON"))
    }

    /// "Create a Payment Link API".
    fn create_link(&mut self, account: &Account, call: &Call, desk: &mut Desk) -> Reply {
        let body = Self::json_body(account, call)?;
        let mut link = read_link(&body, account, desk.now())
            .map_err(|problem| Self::refuse(account, &problem_text(&problem)))?;
        if link.invoice.is_empty() {
            link.invoice = format!("INV{}", desk.digits(13));
        }
        let key = (account.key.clone(), link.invoice.clone());
        if self.links.contains_key(&key) {
            let taken = "Invoice Number already exists. Please enter new invoice number.";
            return Err(Box::new(
                Self::refuse(account, taken).about(link.reference()),
            ));
        }
        link.page = desk.id(12);
        let mut shown = show_link(&link, desk);
        if let Some(shown) = shown.as_object_mut() {
            // What a creation answers is less than what is fetched, and its date is another.
            for name in ["summary", "status", "totalAmountCollected", "addedOn"] {
                shown.remove(name);
            }
            shown.insert("expiryDate".to_owned(), indian(link.expires_at).into());
            shown.insert("emailStatus".to_owned(), "not opted".into());
            shown.insert("smsStatus".to_owned(), "not opted".into());
        }
        let answer = envelope(200, 0, Some("paymentLink generated"), shown);
        let answer = answer.about(link.reference());
        self.pages.insert(link.page.clone(), key.clone());
        self.links.insert(key, link);
        Ok(answer)
    }

    fn link(&self, account: &Account, invoice: &str) -> Result<&Link, Box<Answer>> {
        self.links
            .get(&(account.key.clone(), invoice.to_owned()))
            .ok_or_else(|| Self::refuse(account, "paymentLink not found"))
    }

    /// "Get Single Payment Link".
    fn get_link(&self, account: &Account, invoice: &str, desk: &Desk) -> Reply {
        let link = self.link(account, invoice)?;
        Ok(envelope(200, 0, None, show_link(link, desk)).about(link.reference()))
    }

    /// "Get Transaction Details API".
    fn link_transactions(&self, account: &Account, invoice: &str, call: &Call) -> Reply {
        let link = self.link(account, invoice)?;
        let day = |name: &str| {
            call.param(name)
                .and_then(|date| read_indian(&format!("{date} 00:00:00")))
                .ok_or_else(|| Self::refuse(account, &format!("{name} is mandatory, yyyy-MM-dd")))
        };
        let (from, to) = (day("dateFrom")?, day("dateTo")?.saturating_add(86_400));
        let number = |name: &str, default: usize| {
            call.param(name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let mut rows: Vec<&Payment> = link
            .payments
            .iter()
            .filter_map(|id| self.payments.get(id))
            .filter(|payment| (from..to).contains(&payment.created_at))
            .collect();
        if call.param("order") == Some("desc") {
            rows.reverse();
        }
        let size = number("pageSize", 20).max(1);
        let all = rows.len();
        let data: Vec<Value> = rows
            .into_iter()
            .skip(number("pageOffset", 0))
            .take(size)
            .map(|payment| {
                json!({
                    "createdOn": format!("{}.0", indian(payment.created_at)),
                    "transactionId": payment.mihpayid,
                    "merchantReferenceId": payment.txnid,
                    "paymentId": null,
                    // Two per cent stay with PayU: what is settled is not what was paid.
                    "settledAmount": if payment.unmapped == "captured" {
                        to_number(payment.amount.saturating_sub(payment.amount / 50))
                    } else {
                        json!(0)
                    },
                    "customerEmail": payment.email,
                    "status": payment.status,
                    "mode": payment.mode,
                    "bankCode": payment.mode,
                    "cardNum": null,
                    "subscriptionDetails": null,
                })
            })
            .collect();
        let result = json!({
            "pageSize": size, "pages": all.div_ceil(size), "rows": all,
            "pageOffset": number("pageOffset", 0), "data": data,
        });
        Ok(envelope(200, 0, None, result).about(link.reference()))
    }

    /// "Change Status or Expiry for a Payment Link API"; "Update a Payment Link", restrictions.
    fn update_link(&mut self, account: &Account, invoice: &str, call: &Call, desk: &Desk) -> Reply {
        let link = self.link(account, invoice)?.clone();
        let body = Self::json_body(account, call)?;
        let read = || -> Result<(Option<bool>, Option<String>), Problem> {
            let fields = Fields::of(&body, "", &["active", "expiry"])?;
            Ok((
                fields.boolean("active")?,
                fields.text("expiry", 19)?.map(str::to_owned),
            ))
        };
        let refuse =
            |message: &str| Box::new(Self::refuse(account, message).about(link.reference()));
        let (active, expiry) = read().map_err(|problem| refuse(&problem_text(&problem)))?;
        if !link.active {
            return Err(refuse("a cancelled link cannot be updated"));
        }
        if link.collected >= link.amount {
            return Err(refuse("a fully paid link cannot be updated"));
        }
        let mut changed = link.clone();
        if let Some(expiry) = expiry {
            changed.expires_at =
                read_indian(&expiry).ok_or_else(|| refuse("expiry must be yyyy-MM-dd HH:mm:ss"))?;
            if changed.expires_at <= desk.now() {
                return Err(refuse("expiry cannot be less than the current date"));
            }
        }
        changed.active = active.unwrap_or(true);
        let answer = envelope(200, 0, Some("paymentLink updated"), Value::Null);
        self.links
            .insert((account.key.clone(), invoice.to_owned()), changed);
        Ok(answer.about(link.reference()))
    }

    /// `POST /merchant/postservice.php?form=2`: sha512(key|command|var1|salt).
    fn postservice(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let missing = || info(0, "Parameter missing", json!({}));
        let Some(form) = call.form() else {
            return missing();
        };
        let of = |name: &str| {
            let found = form.iter().find(|(n, _)| n == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        if call.param("form") != Some("2") {
            // Without it the answer is a PHP array, which nobody here reads.
            return missing();
        }
        let Some(account) = self.accounts.get(of("key")).cloned() else {
            return info(0, "Invalid key.", json!({}));
        };
        let (command, var1) = (of("command"), of("var1"));
        let hash = format!("{}|{command}|{var1}|{}", account.key, account.salt);
        let mut answer = if sha512_hex(hash.as_bytes()) != of("hash") {
            info(0, "Invalid Hash.", json!({}))
        } else if var1.is_empty() {
            missing()
        } else {
            match command {
                "verify_payment" => self.verify_payment(&account, var1),
                "check_payment" => self.check_payment(&account, var1),
                "cancel_refund_transaction" => {
                    self.create_refund(&account, var1, of("var2"), of("var3"), desk)
                }
                "check_action_status" => self.action_status(&account, var1, of("var2")),
                _ => info(0, "Invalid command.", json!({})),
            }
        };
        answer.account = Some(account.key);
        answer
    }

    fn payment(&self, account: &Account, id: &str) -> Option<&Payment> {
        self.payments
            .get(id)
            .filter(|payment| payment.account == account.key)
    }

    /// "Verify Payment API": several numbers separated by pipes; of several attempts under one number the successful, else the last.
    fn verify_payment(&self, account: &Account, var1: &str) -> Answer {
        let (mut details, mut found, mut reference) = (Map::new(), 0_usize, None);
        let wanted: Vec<&str> = var1.split('|').collect();
        for txnid in &wanted {
            let of_number = || {
                self.payments
                    .values()
                    .filter(|p| p.account == account.key && p.txnid == **txnid)
            };
            let payment = of_number()
                .find(|p| p.status == "success")
                .or_else(|| of_number().max_by_key(|p| p.created_at));
            let entry = match payment {
                Some(payment) => {
                    found = found.saturating_add(1);
                    reference = Some(payment.reference.clone());
                    show_payment(payment, true)
                }
                None => json!({"mihpayid": "Not Found", "status": "Not Found"}),
            };
            details.insert((*txnid).to_owned(), entry);
        }
        let msg = format!(
            "{found} out of {} Transactions Fetched Successfully",
            wanted.len()
        );
        let status = i64::from(found > 0);
        let answer = info(status, &msg, json!({"transaction_details": details}));
        match reference {
            Some(reference) => answer.about(reference),
            None => answer,
        }
    }

    /// "Check Payment API". What it says of a number it does not know is cut off in the copies; it is said as verify_payment does.
    fn check_payment(&self, account: &Account, id: &str) -> Answer {
        match self.payment(account, id) {
            Some(payment) => info(
                1,
                "Transaction Fetched Successfully",
                json!({"transaction_details": show_payment(payment, false)}),
            )
            .about(&payment.reference),
            None => info(
                0,
                "0 out of 1 Transactions Fetched Successfully",
                json!({"transaction_details": {id: {"mihpayid": "Not Found", "status": "Not Found"}}}),
            ),
        }
    }

    /// "Refund Transaction API", "Error Codes for Refund Initiation".
    fn create_refund(
        &mut self,
        account: &Account,
        id: &str,
        token: &str,
        amount: &str,
        desk: &mut Desk,
    ) -> Answer {
        let Some(payment) = self.payment(account, id).cloned() else {
            return refund_error(116);
        };
        let refuse = |code: i64| refund_error(code).about(&payment.reference);
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return refuse(238);
        }
        let of_account = |refund: &&Refund| refund.account == account.key;
        if self
            .refunds
            .values()
            .filter(of_account)
            .any(|refund| refund.token == token)
        {
            return refuse(106);
        }
        if (payment.status, payment.unmapped) != ("success", "captured") {
            return refuse(111);
        }
        let left = payment.amount.saturating_sub(payment.refunded);
        let Some(amount) = paise(amount).filter(|amount| (1..=left).contains(amount)) else {
            return refuse(105);
        };
        if account.balance.is_some_and(|balance| amount > balance) {
            return refuse(225);
        }
        let now = desk.now();
        let too_soon = |refund: &&Refund| {
            refund.mihpayid == id
                && refund.amount == amount
                && now.saturating_sub(refund.created_at) < SAME_AMOUNT_PAUSE
        };
        if self.refunds.values().any(|refund| too_soon(&refund)) {
            return refuse(214);
        }
        let request_id = desk.digits(9);
        let refund = Refund {
            account: account.key.clone(),
            request_id: request_id.clone(),
            mihpayid: id.to_owned(),
            token: token.to_owned(),
            amount,
            status: "pending",
            arn: String::new(),
            created_at: now,
        };
        self.refunds.insert(request_id.clone(), refund);
        if let Some(payment) = self.payments.get_mut(id) {
            payment.refunded = payment.refunded.saturating_add(amount);
            payment.refunds.push(request_id.clone());
        }
        match account.refunds {
            RefundsEnd::Processed => self.end_refund(&request_id, "processed", desk),
            RefundsEnd::Failed => self.end_refund(&request_id, "failed", desk),
            RefundsEnd::Pending => {}
        }
        self.mirror_refund(&request_id, desk);
        info(
            1,
            "Refund Request Queued",
            json!({"request_id": request_id, "bank_ref_num": payment.bank_ref, "mihpayid": id, "error_code": 102}),
        )
        .about(&payment.reference)
    }

    /// "Check Refund Status API", with request id and with PayU ID.
    fn action_status(&self, account: &Account, var1: &str, var2: &str) -> Answer {
        let mut entries = Map::new();
        let mut reference = None;
        if var2 == "payuid" {
            if let Some(payment) = self.payment(account, var1) {
                reference = Some(payment.reference.clone());
                if payment.unmapped == "captured" {
                    let capture = json!({
                        "mihpayid": payment.mihpayid, "bank_ref_num": payment.bank_ref, "request_id": payment.request_id,
                        "amt": decimal(payment.amount), "mode": payment.mode, "action": "capture", "token": "",
                        "status": "SUCCESS", "bank_arn": null, "settlement_id": null, "amount_settled": null,
                        "UTR_no": null, "value_date": null, "refund_mode": "-",
                    });
                    entries.insert(payment.request_id.clone(), capture);
                }
                for refund in payment.refunds.iter().filter_map(|id| self.refunds.get(id)) {
                    entries.insert(refund.request_id.clone(), self.show_refund(refund));
                }
            }
        } else if let Some(refund) = self.refunds.get(var1).filter(|r| r.account == account.key) {
            reference = self
                .payments
                .get(&refund.mihpayid)
                .map(|payment| payment.reference.clone());
            entries.insert(refund.request_id.clone(), self.show_refund(refund));
        }
        if entries.is_empty() {
            return info(
                0,
                "0 out of 1 Transactions Fetched Successfully",
                json!({"transaction_details": {var1: "No action status found"}}),
            );
        }
        let answer = info(
            1,
            "1 out of 1 Transactions Fetched Successfully",
            json!({"transaction_details": {var1: entries}}),
        );
        match reference {
            Some(reference) => answer.about(reference),
            None => answer,
        }
    }

    fn show_refund(&self, refund: &Refund) -> Value {
        let mode = self
            .payments
            .get(&refund.mihpayid)
            .map(|payment| payment.mode.clone());
        json!({
            "mihpayid": refund.mihpayid,
            "bank_ref_num": refund.arn,
            "request_id": refund.request_id,
            "amt": decimal(refund.amount),
            "mode": mode,
            "action": "refund",
            "token": refund.token,
            "status": match refund.status {
                "processed" => "success",
                "failed" => "failure",
                _ => "QUEUED",
            },
            "bank_arn": if refund.arn.is_empty() { Value::Null } else { refund.arn.clone().into() },
            "settlement_id": null,
            "amount_settled": null,
            "UTR_no": null,
            "value_date": null,
            "refund_mode": "Back to Source",
        })
    }

    fn end_refund(&mut self, id: &str, status: &'static str, desk: &mut Desk) {
        let arn = desk.digits(12);
        let Some(refund) = self.refunds.get_mut(id) else {
            return;
        };
        refund.status = status;
        if status == "processed" {
            refund.arn = arn;
        } else if let Some(payment) = self.payments.get_mut(&refund.mihpayid) {
            // A failed refund gives the amount back to what can be refunded.
            payment.refunded = payment.refunded.saturating_sub(refund.amount);
        }
        self.tell_refund(id, desk);
    }

    /// "Refund Status Callback": JSON without a hash.
    fn tell_refund(&self, id: &str, desk: &mut Desk) {
        let Some(refund) = self.refunds.get(id) else {
            return;
        };
        let Some(payment) = self.payments.get(&refund.mihpayid) else {
            return;
        };
        // The samples print the bank's number as a JSON number.
        let arn = refund.arn.parse::<u64>().map_or(Value::Null, Value::from);
        let body = json!({
            "additionalValue1": null, "bank_arn": arn, "refund_mode": "Back to Source", "bank_ref_num": refund.arn,
            "key": refund.account, "amt": decimal(refund.amount), "remark": null,
            "status": if refund.status == "processed" { "success" } else { "failure" },
            "token": refund.token, "mihpayid": refund.mihpayid, "request_id": refund.request_id,
            "merchantTxnId": payment.txnid, "additionalValue2": null, "action": "refund",
        });
        self.emit(
            &refund.account,
            "refund",
            "application/json",
            body.to_string().into_bytes(),
            &payment.reference,
            desk,
        );
    }

    /// Tells a vendor that shows the same refund.
    fn mirror_refund(&self, id: &str, desk: &mut Desk) {
        if let Some(refund) = self.refunds.get(id) {
            desk.mirrors.push(Mirror::Refund {
                from: "payu",
                payment_id: refund.mihpayid.clone(),
                refund_id: refund.request_id.clone(),
                amount: refund.amount,
                status: refund.status,
            });
        }
    }

    /// One attempt to pay a link.
    fn attempt(
        &mut self,
        link: &Link,
        amount: i64,
        status: &'static str,
        unmapped: &'static str,
        method: &str,
        desk: &mut Desk,
    ) -> Value {
        let own = self
            .accounts
            .get(&link.account)
            .is_none_or(|account| account.link_txnid == LinkTxnid::Own);
        let payment = Payment {
            account: link.account.clone(),
            mihpayid: format!("4039937155{}", desk.digits(8)),
            txnid: if own {
                desk.digits(12)
            } else {
                link.invoice.clone()
            },
            reference: link.reference().to_owned(),
            of_link: true,
            amount,
            refunded: 0,
            status,
            unmapped,
            mode: mode(method),
            udf: link.udf.clone(),
            productinfo: link.description.clone(),
            firstname: link.name.clone(),
            email: link.email.clone(),
            phone: link.phone.clone(),
            error: if status == "failure" { "E308" } else { "E000" },
            bank_ref: desk.digits(12),
            request_id: desk.digits(9),
            created_at: desk.now(),
            refunds: Vec::new(),
        };
        let id = payment.mihpayid.clone();
        let txnid = payment.txnid.clone();
        if let Some(link) = self
            .links
            .get_mut(&(link.account.clone(), link.invoice.clone()))
        {
            link.payments.push(id.clone());
            if unmapped == "captured" {
                link.collected = link.collected.saturating_add(amount);
                link.payments_made = link.payments_made.saturating_add(1);
            }
        }
        self.payments.insert(id.clone(), payment);
        self.tell_payment(&id, desk);
        let redirect = match status {
            "success" => &link.success_url,
            _ => &link.failure_url,
        };
        json!({
            "vendor": "payu", "payment_id": id, "txnid": txnid, "invoice_number": link.invoice,
            "reference_id": link.reference(), "amount": amount, "status": unmapped, "redirect": redirect,
        })
    }

    /// "Webhook Events and Sample Payloads", in the sample's sequence.
    fn payment_body(account: &Account, payment: &Payment) -> (&'static str, Vec<u8>) {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut put = |name: &str, value: &str| pairs.push((name.to_owned(), value.to_owned()));
        put("mihpayid", &payment.mihpayid);
        put("mode", &payment.mode);
        put("status", payment.status);
        put("key", &account.key);
        put("txnid", &payment.txnid);
        put("amount", &decimal(payment.amount));
        put("addedon", &indian(payment.created_at));
        put("productinfo", &payment.productinfo);
        put("firstname", &payment.firstname);
        for name in [
            "lastname", "address1", "address2", "city", "state", "country", "zipcode",
        ] {
            put(name, "");
        }
        put("email", &payment.email);
        put("phone", &payment.phone);
        for (name, value) in UDF.iter().zip(&payment.udf) {
            put(name, value);
        }
        for name in ["udf6", "udf7", "udf8", "udf9", "udf10", "card_no", "field0"] {
            put(name, "");
        }
        put("field9", "Transaction & more: 100%");
        put("payment_source", "payu");
        put("PG_TYPE", &format!("{}-PG", payment.mode));
        put("bank_ref_num", &payment.bank_ref);
        put("bankcode", &payment.mode);
        put("error", payment.error);
        put("error_Message", "No Error");
        put("net_amount_debit", &decimal(payment.amount));
        put("discount", "0.00");
        put("unmappedstatus", payment.unmapped);
        if let Some(charges) = &account.charges {
            put("additionalCharges", charges);
        }
        let secret = match account.link_hash {
            LinkHash::ClientSecret if payment.of_link => &account.client_secret,
            LinkHash::ClientSecret | LinkHash::Salt => &account.salt,
        };
        let hash = response_hash(secret, &pairs);
        pairs.push(("hash".to_owned(), hash));
        match account.webhook_body {
            WebhookBody::Form => (FORM_TYPE, encode(&pairs)),
            WebhookBody::Json => {
                let fields: Map<String, Value> = pairs
                    .into_iter()
                    .map(|(name, value)| (name, value.into()))
                    .collect();
                // As PHP writes it.
                let text = Value::Object(fields).to_string().replace('/', "\\/");
                ("application/json", text.into_bytes())
            }
        }
    }

    fn tell_payment(&self, id: &str, desk: &mut Desk) {
        let Some(payment) = self.payments.get(id) else {
            return;
        };
        let Some(account) = self.accounts.get(&payment.account) else {
            return;
        };
        let event = match payment.status {
            "success" => "payment_success",
            "failure" => "payment_failure",
            _ => "payment_pending",
        };
        let (kind, body) = Self::payment_body(account, payment);
        self.emit(
            &payment.account,
            event,
            kind,
            body,
            &payment.reference,
            desk,
        );
    }

    fn emit(
        &self,
        account: &str,
        event: &str,
        kind: &str,
        body: Vec<u8>,
        reference: &str,
        desk: &mut Desk,
    ) {
        let Some(account) = self.accounts.get(account) else {
            return;
        };
        let wanted = account
            .events
            .as_ref()
            .is_none_or(|events| events.iter().any(|wanted| wanted == event));
        let urls = account.webhook_url.iter().chain(&account.more_webhook_urls);
        for url in urls.filter(|_| wanted) {
            desk.send(HookDraft {
                vendor: "payu",
                account: account.key.clone(),
                event: event.to_owned(),
                reference_id: Some(reference.to_owned()),
                url: url.clone(),
                headers: vec![("Content-Type".to_owned(), kind.to_owned())],
                body: body.clone(),
            });
        }
    }

    /// A plain page: the link must lead somewhere for a person who follows the demo.
    fn page(&self, page: &str, desk: &Desk) -> Answer {
        let Some(link) = self.by_page(page) else {
            return Answer::html(
                404,
                "<!doctype html><title>Unknown link</title><p>Unknown link".to_owned(),
            );
        };
        let status = link.status(desk.now());
        let button = if status == "active" {
            "<form method=\"post\"><button>Pay</button></form>"
        } else {
            ""
        };
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Payment</title>\
             <h1>Rs. {}</h1><p>Status: {status}</p>{button}</html>",
            decimal(link.amount)
        );
        Answer::html(200, body).about(link.reference())
    }

    /// The page's button: pays, and leads where the shop said. PayU's checkout posts the signed fields there; whether its links do
    /// is not documented, so here the browser is only sent.
    fn pay_on_page(&mut self, page: &str, desk: &mut Desk) -> Answer {
        let request = json!({"link": format!("/payu/pay/{page}")});
        let mut location = format!("/payu/pay/{page}");
        match self.customer(Act::Pay, &request, desk) {
            Ok(Outcome::Done(done)) => {
                if let Some(url) = done.get("redirect").and_then(Value::as_str) {
                    url.clone_into(&mut location);
                }
            }
            Ok(Outcome::Follow(_)) | Err(_) => return self.page(page, desk),
        }
        let mut answer = self.page(page, desk);
        answer.status = 303;
        answer.headers.push(("location".to_owned(), location));
        answer
    }
}

/// "Create a Payment Link API", request parameters. Only links of one fixed amount are played.
fn read_link(body: &Value, account: &Account, now: i64) -> Result<Link, Problem> {
    let fields = Fields::of(
        body,
        "",
        &[
            "subAmount",
            "description",
            "source",
            "currency",
            "invoiceNumber",
            "tax",
            "shippingCharge",
            "isPartialPaymentAllowed",
            "maxPaymentsAllowed",
            "isAmountFilledByCustomer",
            "expiryDate",
            "viaEmail",
            "viaSms",
            "customer",
            "address",
            "udf",
            "notes",
            "successURL",
            "failureURL",
        ],
    )?;
    let amount = match fields.need("subAmount")? {
        Value::Number(number) => paise(&number.to_string()),
        _ => None,
    }
    .filter(|amount| *amount >= LEAST_PAISE)
    .ok_or_else(|| Problem::value("subAmount", "must be a number of at least 1 rupee"))?;
    let description = fields.need_text("description", 1000)?;
    fields.need_word("source", &["API"])?;
    fields.word("currency", &["INR"])?;
    let invoice = fields.text("invoiceNumber", 50)?.unwrap_or_default();
    if !invoice.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Problem::value("invoiceNumber", "must be alphanumeric"));
    }
    for name in [
        "isPartialPaymentAllowed",
        "isAmountFilledByCustomer",
        "viaEmail",
        "viaSms",
    ] {
        if fields.boolean(name)? == Some(true) {
            return Err(Problem::value(name, "is not played by the sandbox"));
        }
    }
    for name in ["tax", "shippingCharge"] {
        if fields.integer(name)?.is_some_and(|charge| charge != 0) {
            return Err(Problem::value(name, "is not played by the sandbox"));
        }
    }
    let expires_at = match fields.text("expiryDate", 19)? {
        None => now.saturating_add(LIFE),
        Some(text) => read_indian(text)
            .ok_or_else(|| Problem::value("expiryDate", "must be yyyy-MM-dd HH:mm:ss"))?,
    };
    if expires_at <= now {
        return Err(Problem::value(
            "expiryDate",
            "expiry cannot be less than the current date",
        ));
    }
    let mut udf: [String; 5] = Default::default();
    if let Some(given) = fields.object("udf", &UDF)? {
        for (slot, name) in udf.iter_mut().zip(UDF) {
            let text = given.get(name).and_then(Value::as_str).unwrap_or_default();
            if text.chars().count() > LONGEST_UDF {
                return Err(Problem::value(
                    given.at(name),
                    "has more than 255 characters",
                ));
            }
            text.clone_into(slot);
        }
    }
    let customer = fields.object("customer", &["name", "phone", "email"])?;
    let of_customer = |name: &str, longest: usize| -> Result<String, Problem> {
        let Some(customer) = &customer else {
            return Ok(String::new());
        };
        Ok(customer.text(name, longest)?.unwrap_or_default().to_owned())
    };
    Ok(Link {
        account: account.key.clone(),
        page: String::new(),
        invoice: invoice.to_owned(),
        amount,
        collected: 0,
        description: description.to_owned(),
        udf,
        name: of_customer("name", 60)?,
        phone: of_customer("phone", 20)?,
        email: of_customer("email", 100)?,
        success_url: fields.text("successURL", 2048)?.map(str::to_owned),
        failure_url: fields.text("failureURL", 2048)?.map(str::to_owned),
        payments_allowed: fields.integer("maxPaymentsAllowed")?.unwrap_or(1).max(1),
        payments_made: 0,
        expires_at,
        active: true,
        created_at: now,
        payments: Vec::new(),
    })
}

/// "Get Single Payment Link", success scenario.
fn show_link(link: &Link, desk: &Desk) -> Value {
    let text = |text: &str| {
        if text.is_empty() {
            Value::Null
        } else {
            text.into()
        }
    };
    let date = |seconds: i64| {
        let (date, time) = date_and_time(seconds, INDIA);
        format!("{date}T{time}.000+0530")
    };
    let udf: Map<String, Value> = UDF
        .iter()
        .zip(&link.udf)
        .map(|(name, value)| ((*name).to_owned(), text(value)))
        .collect();
    json!({
        "summary": {"amountRequested": to_number(link.amount), "totalRevenue": to_number(link.collected), "totalViews": 0},
        "subAmount": to_number(link.amount),
        "tax": 0,
        "shippingCharge": 0,
        "totalAmount": to_number(link.amount),
        "totalAmountCollected": to_number(link.collected),
        "invoiceNumber": link.invoice,
        "paymentLink": format!("{}/payu/pay/{}", desk.base_url, link.page),
        "description": link.description,
        "active": link.active,
        "isPartialPaymentAllowed": false,
        "status": link.status(desk.now()),
        "expiryDate": date(link.expires_at),
        "udf": udf,
        "address": {"line1": null, "line2": null, "city": null, "state": null, "country": null, "zipCode": null},
        "addedOn": date(link.created_at),
        "isAmountFilledByCustomer": false,
        "isScheduled": 0,
        "reminderCount": 0,
        "customAttributes": [],
    })
}

/// "Verify Payment API" writes `mihpayid` as text, "Check Payment API" as a number.
fn show_payment(payment: &Payment, as_text: bool) -> Value {
    let id = match payment.mihpayid.parse::<u64>() {
        Ok(number) if !as_text => number.into(),
        _ => Value::from(payment.mihpayid.as_str()),
    };
    let amount = decimal(payment.amount);
    let paid = if payment.status == "success" {
        amount.clone()
    } else {
        "0.00".to_owned()
    };
    let mut shown = json!({
        "mihpayid": id,
        "request_id": payment.request_id,
        "bank_ref_num": payment.bank_ref,
        "amt": amount,
        "transaction_amount": amount,
        "txnid": payment.txnid,
        "additional_charges": "0.00",
        "productinfo": payment.productinfo,
        "firstname": payment.firstname,
        "bankcode": payment.mode,
        "field9": "Transaction Completed",
        "error_code": payment.error,
        "addedon": indian(payment.created_at),
        "payment_source": "payu",
        "error_Message": "NO ERROR",
        "net_amount_debit": paid,
        "disc": "0.00",
        "mode": payment.mode,
        "PG_TYPE": format!("{}-PG", payment.mode),
        "status": payment.status,
        "unmappedstatus": payment.unmapped,
        "Merchant_UTR": null,
        "Settled_At": null,
    });
    if let Some(shown) = shown.as_object_mut() {
        for (name, value) in UDF.iter().zip(&payment.udf) {
            shown.insert((*name).to_owned(), value.as_str().into());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_amounts_are_read_as_they_are_written() {
        for seconds in [0, 951_782_400, 1_709_164_799, 1_735_669_800, 4_102_444_800] {
            assert_eq!(read_indian(&indian(seconds)), Some(seconds));
        }
        for bad in [
            "",
            "2026-02-30 00:00:00",
            "2026-2-3 00:00:00",
            "2026-02-03T00:00:00",
            "2026-02-03 24:00:00",
        ] {
            assert_eq!(read_indian(bad), None, "{bad}");
        }
        assert_eq!(paise("840.5"), Some(84_050));
        assert_eq!(paise("840"), Some(84_000));
        for bad in ["", "-1", "1.234", "1e3", ".5"] {
            assert_eq!(paise(bad), None, "{bad}");
        }
        assert_eq!(to_number(84_050).to_string(), "840.5");
        assert_eq!(to_number(84_000).to_string(), "840");
    }
}
