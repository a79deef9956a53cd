//! Razorpay: payment links, payments, refunds and their webhooks.
//!
//! Written from Razorpay's documentation mirror (github.com/razorpay/markdown-docs, April 2026); the page is named where
//! a rule stands. What the documents leave open is decided here and said so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Act, Outcome, Refused, Vendor, merged, wanted};
use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};
use crate::sign::hmac_sha256_hex;
use crate::strict::{Fields, Problem};

/// "timestamp must be atleast 15 minutes in future" (Create a Standard Payment Link, Errors).
const EARLIEST_EXPIRY: i64 = 15 * 60;
/// "cannot exceed more than six months from the date of creation" (Create a Standard Payment Link, `expire_by`). The
/// longest six months there are: a caller within the rule is never refused.
const LATEST_EXPIRY: i64 = 184 * 24 * 60 * 60;
/// "Normal refund is not possible for a payment which is more than 6 months old" (Create a Normal Refund, `status`).
const REFUNDABLE: i64 = LATEST_EXPIRY;
/// "Payments not `captured` by you within 3 days" are given back (Payment Capture Settings).
const CAPTURABLE: i64 = 3 * 24 * 60 * 60;
/// "The amount must be at least INR 1.00" (Create a Normal Refund, Errors; the same for orders).
const LEAST_PAISE: i64 = 100;

/// The sample of webhooks/payments.md, payment.failed, UPI: code, description, source, step, reason.
const DECLINED: [&str; 5] = [
    "BAD_REQUEST_ERROR",
    "Payment failed",
    "issuer",
    "payment_authorization",
    "payment_failed",
];

const OPERATIONS: &[&str] = &[
    "create_payment_link",
    "list_payment_links",
    "get_payment_link",
    "update_payment_link",
    "cancel_payment_link",
    "notify_payment_link",
    "get_payment",
    "get_order",
    "list_order_payments",
    "create_refund",
    "list_refunds",
    "get_refund",
    "payment_page",
    "unknown",
];

const EVENTS: &[&str] = &[
    "payment_link.paid",
    "payment_link.partially_paid",
    "payment_link.cancelled",
    "payment_link.expired",
    "payment.authorized",
    "payment.captured",
    "payment.failed",
    "order.paid",
    "refund.created",
    "refund.processed",
    "refund.failed",
    "refund.speed_changed",
    "forged",
];

/// How the refunds of an account end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum RefundsEnd {
    /// At once, well.
    #[default]
    Processed,
    /// Not by themselves.
    Pending,
    /// At once, badly.
    Failed,
}

/// An account, as `POST /_control/accounts` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    key_id: String,
    key_secret: String,
    #[serde(default)]
    account_id: Option<String>,
    #[serde(default)]
    webhook_url: Option<String>,
    #[serde(default)]
    webhook_secret: String,
    /// Which events its webhook is subscribed to; all if left out.
    #[serde(default)]
    events: Option<Vec<String>>,
    #[serde(default)]
    refunds: RefundsEnd,
    /// What the account holds for refunds, in paise; all that is asked for, if left out.
    #[serde(default)]
    balance: Option<i64>,
    /// How long they take to end, by the sandbox's clock.
    #[serde(default)]
    refund_seconds: i64,
    /// Who pays Razorpay's fee.
    #[serde(default)]
    fee_bearer: FeeBearer,
    /// The offer that every payment on a link uses.
    #[serde(default)]
    offer: Option<Offer>,
}

/// Whose money the fee is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum FeeBearer {
    /// The merchant's: it is taken from the settlement, and the payment is what was asked for.
    #[default]
    Platform,
    /// The customer's: it is on top of what was asked for, and part of the payment.
    Customer,
}

/// An instant discount of Razorpay's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offer {
    id: String,
    /// What it takes off, in paise.
    amount: i64,
}

/// What the customer bears of what was asked for, in hundredths of a percent: 1 % and 18 % tax on it.
const CUSTOMERS_FEE: i64 = 118;

#[derive(Debug, Clone)]
struct Link {
    account: String,
    id: String,
    amount: i64,
    amount_paid: i64,
    accept_partial: bool,
    first_min_partial_amount: i64,
    reference_id: String,
    description: String,
    customer: Value,
    notify: Value,
    notes: Option<Map<String, Value>>,
    callback_url: Option<String>,
    reminder_enable: bool,
    upi_link: bool,
    expire_by: i64,
    expired_at: i64,
    cancelled_at: i64,
    created_at: i64,
    updated_at: i64,
    status: &'static str,
    order_id: Option<String>,
    short_url: String,
    payments: Vec<String>,
}

impl Link {
    /// What payments and orders carry in their ids and descriptions: the id without `plink_`.
    fn stripped(&self) -> &str {
        self.id.strip_prefix("plink_").unwrap_or(&self.id)
    }

    /// The moment it really ends: without `expire_by` after six months, though it says 0.
    fn ends_at(&self) -> i64 {
        if self.expire_by == 0 {
            self.created_at.saturating_add(LATEST_EXPIRY)
        } else {
            self.expire_by
        }
    }
}

#[derive(Debug, Clone)]
struct Order {
    account: String,
    id: String,
    receipt: String,
    amount: i64,
    amount_paid: i64,
    attempts: i64,
    status: &'static str,
    notes: Value,
    created_at: i64,
    updated_at: i64,
    payments: Vec<String>,
}

#[derive(Debug, Clone)]
struct Payment {
    account: String,
    id: String,
    order_id: String,
    link: String,
    amount: i64,
    /// What it pays of the link: `amount` without the fee and with what the offer took off.
    share: i64,
    /// The fee in `amount`, where the customer bears it.
    customers_fee: i64,
    offer: Option<String>,
    amount_refunded: i64,
    status: &'static str,
    captured: bool,
    method: String,
    contact: Value,
    email: Value,
    notes: Value,
    rrn: String,
    error: Option<[&'static str; 5]>,
    created_at: i64,
    refunds: Vec<String>,
}

#[derive(Debug, Clone)]
struct Refund {
    account: String,
    id: String,
    payment_id: String,
    amount: i64,
    status: &'static str,
    speed_requested: String,
    speed_processed: &'static str,
    receipt: Value,
    notes: Value,
    arn: Value,
    created_at: i64,
}

/// What a refund's idempotency key was used for.
#[derive(Debug, Clone)]
struct Used {
    payment_id: String,
    body: Value,
    refund: String,
}

/// Razorpay.
#[derive(Debug, Default)]
pub(crate) struct Razorpay {
    accounts: BTreeMap<String, Account>,
    /// The accounts as they were given.
    said: BTreeMap<String, Value>,
    links: BTreeMap<String, Link>,
    by_reference: HashMap<(String, String), String>,
    newest: Vec<String>,
    expiries: BTreeSet<(i64, String)>,
    orders: HashMap<String, Order>,
    payments: HashMap<String, Payment>,
    refunds: HashMap<String, Refund>,
    /// Refunds under way: when each ends, and how.
    endings: BTreeSet<(i64, String, &'static str)>,
    /// Authorised payments: when each is given back if nobody captures it.
    uncaptured: BTreeSet<(i64, String)>,
    keys: HashMap<(String, String), Used>,
}

/// Razorpay's error envelope ("About Errors").
fn error(status: u16, description: impl Into<String>, field: Option<&str>) -> Answer {
    let mut error = json!({
        "code": "BAD_REQUEST_ERROR",
        "description": description.into(),
        "source": "business",
        "step": "payment_initiation",
        "reason": "input_validation_failed",
        "metadata": {},
    });
    if let (Some(field), Some(error)) = (field, error.as_object_mut()) {
        error.insert("field".to_owned(), field.into());
    }
    Answer::json(status, &json!({"error": error}))
}

/// The same for errors whose origin the documents print as "NA".
fn plain_error(status: u16, code: &str, description: impl Into<String>) -> Answer {
    Answer::json(
        status,
        &json!({"error": {
            "code": code,
            "description": description.into(),
            "source": "NA",
            "step": "NA",
            "reason": "NA",
            "metadata": {},
        }}),
    )
}

fn bad(description: impl Into<String>) -> Answer {
    plain_error(400, "BAD_REQUEST_ERROR", description)
}

/// What a problem is called for payment links ("Create a Standard Payment Link", Errors).
fn link_problem(problem: Problem) -> Answer {
    let field = problem.path().to_owned();
    match problem {
        Problem::Unknown { .. } => error(400, "wrong input fields sent.", Some(&field)),
        Problem::Missing { .. } => error(400, format!("The {field} is required"), Some(&field)),
        Problem::Type { wanted, .. } => {
            error(400, format!("The {field} must be {wanted}."), Some(&field))
        }
        Problem::Value { why, .. } => error(400, why, Some(&field)),
    }
}

/// What a problem is called for refunds ("Create a Normal Refund", Errors).
fn refund_problem(problem: Problem) -> Answer {
    match problem {
        Problem::Unknown { path } => error(
            400,
            format!("{path} is/are not required and should not be sent"),
            Some(&path),
        ),
        other => link_problem(other),
    }
}

fn missing_url() -> Answer {
    bad("The requested URL was not found on the server.")
}

impl Vendor for Razorpay {
    fn name(&self) -> &'static str {
        "razorpay"
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
            ("POST", ["v1", "payment_links"]) => "create_payment_link",
            ("GET", ["v1", "payment_links"]) => "list_payment_links",
            ("GET", ["v1", "payment_links", _]) => "get_payment_link",
            ("PATCH", ["v1", "payment_links", _]) => "update_payment_link",
            ("POST", ["v1", "payment_links", _, "cancel"]) => "cancel_payment_link",
            ("POST", ["v1", "payment_links", _, "notify_by", _]) => "notify_payment_link",
            ("GET", ["v1", "payments", _]) => "get_payment",
            ("GET", ["v1", "orders", _]) => "get_order",
            ("GET", ["v1", "orders", _, "payments"]) => "list_order_payments",
            ("POST", ["v1", "payments", _, "refund"]) => "create_refund",
            ("GET", ["v1", "payments", _, "refunds"]) => "list_refunds",
            ("GET", ["v1", "refunds", _] | ["v1", "payments", _, "refunds", _]) => "get_refund",
            ("GET" | "POST", ["pay", _]) => "payment_page",
            _ => "unknown",
        }
    }

    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let (method, segments) = call.route();
        if let ("GET", ["pay", id]) = (method, segments.as_slice()) {
            return self.page(id);
        }
        if let ("POST", ["pay", id]) = (method, segments.as_slice()) {
            return self.pay_on_page(id, desk);
        }
        let account = match self.authenticate(call) {
            Ok(account) => account,
            Err(answer) => return *answer,
        };
        let result = match (method, segments.as_slice()) {
            ("POST", ["v1", "payment_links"]) => self.create_link(&account, call, desk),
            ("GET", ["v1", "payment_links"]) => Ok(self.list_links(&account, call)),
            ("GET", ["v1", "payment_links", id]) => self
                .link(&account, id)
                .map(|link| Answer::json(200, &self.show_link(link)).about(&link.reference_id)),
            ("PATCH", ["v1", "payment_links", id]) => self.update_link(&account, id, call, desk),
            ("POST", ["v1", "payment_links", id, "cancel"]) => self.cancel_link(&account, id, desk),
            ("POST", ["v1", "payment_links", id, "notify_by", "sms" | "email"]) => self
                .link(&account, id)
                .map(|link| Answer::json(200, &json!({"success": true})).about(&link.reference_id)),
            ("GET", ["v1", "payments", id]) => self
                .payment(&account, id)
                .map(|payment| self.about_payment(payment, &self.show_payment(payment))),
            ("GET", ["v1", "orders", id]) => self
                .order(&account, id)
                .map(|order| Answer::json(200, &show_order(order)).about(&order.receipt)),
            ("GET", ["v1", "orders", id, "payments"]) => self.order(&account, id).map(|order| {
                let items: Vec<Value> = order
                    .payments
                    .iter()
                    .rev()
                    .filter_map(|id| self.payments.get(id))
                    .map(|payment| self.show_payment(payment))
                    .collect();
                Answer::json(200, &collection(items)).about(&order.receipt)
            }),
            ("POST", ["v1", "payments", id, "refund"]) => {
                self.create_refund(&account, id, call, desk)
            }
            ("GET", ["v1", "payments", id, "refunds"]) => {
                self.payment(&account, id).map(|payment| {
                    let items = self.refunds_of(payment, call);
                    self.about_payment(payment, &collection(items))
                })
            }
            ("GET", ["v1", "refunds", id] | ["v1", "payments", _, "refunds", id]) => {
                self.get_refund(&account, id)
            }
            _ => Err(Box::new(missing_url())),
        };
        let mut answer = result.unwrap_or_else(|answer| *answer);
        answer.account = Some(account.key_id);
        answer
    }

    fn error(&self, status: u16, _code: Option<i64>, _desk: &mut Desk) -> Value {
        // "Understand Razorpay APIs", status codes; the body of a 429 or 5xx is not printed there.
        let (code, description) = match status {
            429 => (
                "BAD_REQUEST_ERROR",
                "Request failed. Please try after sometime.",
            ),
            // "Create a Normal Refund (Idempotent Request)", errors.
            409 => (
                "BAD_REQUEST_ERROR",
                "Another request with the same idempotency key is still in progress.",
            ),
            502 | 504 => ("GATEWAY_ERROR", "The gateway request timed out"),
            500..=599 => (
                "SERVER_ERROR",
                "We are facing some trouble completing your request at the moment. Please try again shortly.",
            ),
            _ => ("BAD_REQUEST_ERROR", "The request is invalid"),
        };
        serde_json::from_slice(&plain_error(status, code, description).body).unwrap_or_default()
    }

    fn register(&mut self, account: &Value) -> Result<(), Refused> {
        let (key_id, said) = merged(&self.said, "key_id", account)?;
        let account: Account = serde_json::from_value(said.clone())
            .map_err(|error| Refused::invalid(format!("razorpay: {error}")))?;
        self.said.insert(key_id.clone(), said);
        self.accounts.insert(key_id, account);
        Ok(())
    }

    fn tick(&mut self, desk: &mut Desk) {
        let now = desk.now();
        while let Some((at, id, status)) = self.endings.first().cloned() {
            if at > now {
                break;
            }
            self.endings.pop_first();
            if self
                .refunds
                .get(&id)
                .is_some_and(|refund| refund.status == "pending")
            {
                self.end_refund(&id, status, desk);
                self.tell_refund(&id, desk);
            }
        }
        while let Some((at, id)) = self.uncaptured.first().cloned() {
            if at > now {
                break;
            }
            self.uncaptured.pop_first();
            self.give_back(&id, desk);
        }
        while let Some((at, id)) = self.expiries.first().cloned() {
            if at > now {
                break;
            }
            self.expiries.pop_first();
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            if !matches!(link.status, "created" | "partially_paid") || link.ends_at() > now {
                continue;
            }
            link.status = "expired";
            link.expired_at = now;
            link.updated_at = now;
            let link = link.clone();
            let payload = json!({"payment_link": {"entity": hook_link(&link)}});
            self.emit(
                &link.account,
                "payment_link.expired",
                &["payment_link"],
                payload,
                &link.reference_id,
                desk,
            );
        }
    }

    fn owns(&self, link: &str) -> bool {
        link.starts_with("plink_") || link.contains("/razorpay/pay/plink_")
    }

    fn link_facts(&self, link: &str) -> Option<(String, i64, i64)> {
        let link = self.links.get(link_id(link))?;
        Some((link.reference_id.clone(), link.amount, link.expire_by))
    }

    fn customer(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let id = match (wanted(request, "link"), wanted(request, "reference_id")) {
            (Some(link), _) => link_id(link).to_owned(),
            (None, Some(reference)) => self
                .by_reference
                .iter()
                .find(|((account, found), _)| {
                    found == reference
                        && wanted(request, "account").is_none_or(|wanted| wanted == account)
                })
                .map(|(_, id)| id.clone())
                .ok_or_else(|| Refused::unknown(format!("no link has {reference:?}")))?,
            _ => return Err(Refused::invalid("link or reference_id is missing")),
        };
        let link = self
            .links
            .get(&id)
            .cloned()
            .ok_or_else(|| Refused::unknown(format!("no link {id:?}")))?;
        // A UPI link opens UPI apps and nothing else ("UPI Payment Links").
        if link.upi_link && wanted(request, "method").is_some_and(|method| method != "upi") {
            return Err(Refused::conflict("upi_only", "the link takes UPI only"));
        }
        let late = request.get("late") == Some(&Value::Bool(true));
        if !matches!(link.status, "created" | "partially_paid") && !late {
            return Err(Refused::conflict(
                "not_payable",
                format!("the link is {}", link.status),
            ));
        }
        match act {
            Act::Pay => self.pay(&link, request, desk),
            Act::Fail => self.fail(&link, request, DECLINED, desk),
            Act::Cancel => self.fail(
                &link,
                request,
                [
                    "BAD_REQUEST_ERROR",
                    "Payment processing cancelled by user",
                    "customer",
                    "payment_authentication",
                    "payment_cancelled",
                ],
                desk,
            ),
            Act::Message | Act::Read => Err(Refused::invalid("Razorpay carries no messages")),
        }
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
            } if gateway == "razorpay" && self.accounts.contains_key(account) => {
                let now = desk.now();
                let notes = extras.get("notes").cloned().unwrap_or_else(|| json!([]));
                let receipt = extras
                    .get("receipt")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                self.orders.insert(
                    order_id.clone(),
                    Order {
                        account: account.clone(),
                        id: order_id.clone(),
                        receipt: receipt.to_owned(),
                        amount: *amount,
                        amount_paid: if *is_paid { *amount } else { 0 },
                        attempts: 1,
                        status: if *is_paid { "paid" } else { "attempted" },
                        notes: notes.clone(),
                        created_at: now,
                        updated_at: now,
                        payments: vec![payment_id.clone()],
                    },
                );
                let payment = Payment {
                    account: account.clone(),
                    id: payment_id.clone(),
                    order_id: order_id.clone(),
                    link: String::new(),
                    amount: *amount,
                    share: *amount,
                    customers_fee: 0,
                    offer: None,
                    amount_refunded: 0,
                    status: if *is_paid { "captured" } else { "failed" },
                    captured: *is_paid,
                    method: method.clone(),
                    contact: "+919000090000".into(),
                    email: Value::Null,
                    notes,
                    rrn: desk.digits(12),
                    error: (!is_paid).then_some(DECLINED),
                    created_at: now,
                    refunds: Vec::new(),
                };
                self.emit_mirrored(&payment, desk);
                self.payments.insert(payment_id.clone(), payment);
            }
            Mirror::Refund {
                from,
                payment_id,
                refund_id,
                amount,
                status,
            } if *from != "razorpay" => {
                self.mirror_refund(payment_id, refund_id, *amount, status, desk);
            }
            _ => {}
        }
    }

    fn settle_refund(
        &mut self,
        id: &str,
        status: &str,
        speed: Option<&str>,
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
        if let (Some("normal"), Some(refund)) = (speed, self.refunds.get_mut(id))
            && refund.speed_processed != "normal"
        {
            // "Triggered when refund speed is changed": an optimum refund that could not be made at once.
            refund.speed_processed = "normal";
            self.emit_refund(id, "refund.speed_changed", desk);
        }
        self.end_refund(id, status, desk);
        self.tell_refund(id, desk);
        Ok(self.refunds.get(id).map(show_refund).unwrap_or_default())
    }

    /// "Issue Refunds" from the dashboard: no key, and neither receipt nor notes but those the merchant types in.
    fn refund_in_dashboard(&mut self, request: &Value, desk: &mut Desk) -> Result<Value, Refused> {
        let id = wanted(request, "payment_id")
            .ok_or_else(|| Refused::invalid("payment_id is missing"))?;
        let payment = self
            .payments
            .get(id)
            .cloned()
            .ok_or_else(|| Refused::unknown(format!("no payment {id:?}")))?;
        let account = self
            .accounts
            .get(&payment.account)
            .cloned()
            .ok_or_else(|| Refused::unknown("the payment's account is gone"))?;
        let body: Map<String, Value> = ["amount", "speed", "receipt", "notes"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), request.get(name)?.clone())))
            .collect();
        let asked = read_refund(&Value::Object(body))
            .map_err(|problem| Refused::invalid(format!("{problem:?}")))?;
        let amount = refundable(&payment, &asked)
            .map_err(|(description, _)| Refused::conflict("not_refundable", description))?;
        let refund = self.start_refund(&account, &payment, amount, asked, desk);
        Ok(self
            .refunds
            .get(&refund)
            .map(show_refund)
            .unwrap_or_default())
    }

    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        signature: Option<&str>,
        desk: &mut Desk,
    ) -> Result<HookDraft, Refused> {
        let account = match account {
            Some(key_id) => self.accounts.get(key_id),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such Razorpay account"))?;
        let mut draft = draft(account, "forged", body, None, desk)
            .ok_or_else(|| Refused::unknown("the account has no webhook_url"))?;
        if let Some(signature) = signature {
            for (name, value) in &mut draft.headers {
                if name == "X-Razorpay-Signature" {
                    signature.clone_into(value);
                }
            }
        }
        Ok(draft)
    }
}

/// What the customer pays: what the request says, else what is left, else (a second payment) all of it again.
fn wanted_amount(link: &Link, request: &Value) -> i64 {
    let left = link.amount.saturating_sub(link.amount_paid);
    request
        .get("amount")
        .and_then(Value::as_i64)
        .unwrap_or(if left > 0 { left } else { link.amount })
}

/// A link's id out of its URL.
fn link_id(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or(link)
}

fn collection(items: Vec<Value>) -> Value {
    json!({"entity": "collection", "count": items.len(), "items": items})
}

/// Signs a webhook ("Validate and Test Webhooks"): hex HMAC-SHA256 of the raw body, and an id that is unique per event.
fn draft(
    account: &Account,
    event: &str,
    body: Vec<u8>,
    reference_id: Option<&str>,
    desk: &mut Desk,
) -> Option<HookDraft> {
    let url = account.webhook_url.clone()?;
    let signature = hmac_sha256_hex(account.webhook_secret.as_bytes(), &body);
    Some(HookDraft {
        vendor: "razorpay",
        account: account.key_id.clone(),
        event: event.to_owned(),
        reference_id: reference_id.map(str::to_owned),
        url,
        headers: vec![
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("User-Agent".to_owned(), "Razorpay-Webhook/v1".to_owned()),
            ("X-Razorpay-Signature".to_owned(), signature),
            ("x-razorpay-event-id".to_owned(), desk.id(14)),
        ],
        body,
    })
}

type Reply = Result<Answer, Box<Answer>>;

impl Razorpay {
    /// "Authentication": HTTP Basic. The documents print "4xx" for a wrong key and 401 beside it on other pages.
    fn authenticate(&self, call: &Call) -> Result<Account, Box<Answer>> {
        let refuse = |what: &str| {
            Box::new(plain_error(
                401,
                "BAD_REQUEST_ERROR",
                format!("The api {what} provided is invalid"),
            ))
        };
        let given = call
            .header("authorization")
            .and_then(|header| header.strip_prefix("Basic "))
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| refuse("key"))?;
        let (key_id, secret) = given.split_once(':').ok_or_else(|| refuse("key"))?;
        let account = self.accounts.get(key_id).ok_or_else(|| refuse("key"))?;
        if account.key_secret != secret {
            return Err(refuse("secret"));
        }
        Ok(account.clone())
    }

    fn body(call: &Call) -> Result<Value, Box<Answer>> {
        // Every documented example sends JSON and says so.
        let is_json = call
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"));
        if !is_json {
            return Err(Box::new(bad("The content type must be application/json.")));
        }
        call.json()
            .ok_or_else(|| Box::new(bad("The request body is not valid JSON.")))
    }

    /// "Fetch Payment Links With ID", Errors.
    fn link(&self, account: &Account, id: &str) -> Result<&Link, Box<Answer>> {
        let stripped = id.strip_prefix("plink_").unwrap_or_default();
        if stripped.len() != 14 || !stripped.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Box::new(bad(format!(
                "invalid input [strippedId] = [{stripped}]"
            ))));
        }
        self.links
            .get(id)
            .filter(|link| link.account == account.key_id)
            .ok_or_else(|| Box::new(error(400, "The id provided does not exist", None)))
    }

    fn payment(&self, account: &Account, id: &str) -> Result<&Payment, Box<Answer>> {
        if !id.starts_with("pay_") {
            return Err(Box::new(error(
                400,
                format!("{id} is not a valid id"),
                None,
            )));
        }
        self.payments
            .get(id)
            .filter(|payment| payment.account == account.key_id)
            .ok_or_else(|| Box::new(error(400, "The id provided does not exist", None)))
    }

    fn order(&self, account: &Account, id: &str) -> Result<&Order, Box<Answer>> {
        if !id.starts_with("order_") {
            return Err(Box::new(error(
                400,
                format!("{id} is not a valid id"),
                None,
            )));
        }
        self.orders
            .get(id)
            .filter(|order| order.account == account.key_id)
            .ok_or_else(|| Box::new(error(400, "The id provided does not exist", None)))
    }

    fn reference_of(&self, payment: &Payment) -> String {
        self.orders
            .get(&payment.order_id)
            .map(|order| order.receipt.clone())
            .unwrap_or_default()
    }

    fn about_payment(&self, payment: &Payment, body: &Value) -> Answer {
        Answer::json(200, body).about(self.reference_of(payment))
    }

    /// "Create a Standard Payment Link".
    fn create_link(&mut self, account: &Account, call: &Call, desk: &mut Desk) -> Reply {
        let body = Self::body(call)?;
        let now = desk.now();
        let mut link = read_link(&body, account, now).map_err(|answer| Box::new(*answer))?;
        let key = (account.key_id.clone(), link.reference_id.clone());
        if !link.reference_id.is_empty() && self.by_reference.contains_key(&key) {
            return Err(Box::new(
                bad("payment link creation with reference ID already attempted")
                    .about(link.reference_id),
            ));
        }
        link.id = format!("plink_{}", desk.id(14));
        link.short_url = format!("{}/razorpay/pay/{}", desk.base_url, link.id);
        if !link.reference_id.is_empty() {
            self.by_reference.insert(key, link.id.clone());
        }
        self.newest.push(link.id.clone());
        self.expiries.insert((link.ends_at(), link.id.clone()));
        let answer = Answer::json(200, &self.show_link(&link)).about(&link.reference_id);
        self.links.insert(link.id.clone(), link);
        Ok(answer)
    }

    /// "Fetch All Standard Payment Links": by `reference_id` or `payment_id`, else the account's links.
    fn list_links(&self, account: &Account, call: &Call) -> Answer {
        let links: Vec<Value> = match (call.param("reference_id"), call.param("payment_id")) {
            (Some(reference), _) => self
                .by_reference
                .get(&(account.key_id.clone(), reference.to_owned()))
                .and_then(|id| self.links.get(id))
                .map(|link| self.show_link(link))
                .into_iter()
                .collect(),
            (None, Some(payment)) => self
                .payments
                .get(payment)
                .and_then(|payment| self.links.get(&payment.link))
                .filter(|link| link.account == account.key_id)
                .map(|link| self.show_link(link))
                .into_iter()
                .collect(),
            (None, None) => self
                .newest
                .iter()
                .rev()
                .filter_map(|id| self.links.get(id))
                .filter(|link| link.account == account.key_id)
                .take(10)
                .map(|link| self.show_link(link))
                .collect(),
        };
        Answer::json(200, &json!({"payment_links": links}))
    }

    /// "Update Standard Payment Link".
    fn update_link(&mut self, account: &Account, id: &str, call: &Call, desk: &mut Desk) -> Reply {
        let link = self.link(account, id)?.clone();
        let body = Self::body(call)?;
        let fields = Fields::of(
            &body,
            "",
            &[
                "reference_id",
                "expire_by",
                "notes",
                "accept_partial",
                "reminder_enable",
            ],
        )
        .map_err(|problem| Box::new(link_problem(problem)))?;
        if !matches!(link.status, "created" | "partially_paid") {
            return Err(Box::new(
                bad("update can only be made in created or partially paid state")
                    .about(&link.reference_id),
            ));
        }
        let mut changed = link.clone();
        let read = |changed: &mut Link| -> Result<(), Problem> {
            if let Some(reference) = fields.text("reference_id", 40)? {
                reference.clone_into(&mut changed.reference_id);
            }
            if let Some(expire_by) = fields.integer("expire_by")? {
                changed.expire_by = check_expiry(expire_by, desk.now())?;
            }
            if let Some(notes) = fields.pairs("notes", 15, 256)? {
                changed.notes = Some(notes.clone());
            }
            if let Some(accept) = fields.boolean("accept_partial")? {
                changed.accept_partial = accept;
            }
            if let Some(remind) = fields.boolean("reminder_enable")? {
                changed.reminder_enable = remind;
            }
            Ok(())
        };
        read(&mut changed).map_err(|problem| Box::new(link_problem(problem)))?;
        if changed.reference_id != link.reference_id {
            let key = (account.key_id.clone(), changed.reference_id.clone());
            if self.by_reference.contains_key(&key) {
                return Err(Box::new(bad(
                    "payment link creation with reference ID already attempted",
                )));
            }
            self.by_reference
                .remove(&(account.key_id.clone(), link.reference_id.clone()));
            self.by_reference.insert(key, changed.id.clone());
        }
        changed.updated_at = desk.now();
        self.expiries
            .insert((changed.ends_at(), changed.id.clone()));
        let answer = Answer::json(200, &self.show_link(&changed)).about(&changed.reference_id);
        self.links.insert(changed.id.clone(), changed);
        Ok(answer)
    }

    /// "Cancel a Standard Payment Link".
    fn cancel_link(&mut self, account: &Account, id: &str, desk: &mut Desk) -> Reply {
        let status = self.link(account, id)?.status;
        let now = desk.now();
        let Some(link) = self.links.get_mut(id) else {
            return Err(Box::new(error(400, "The id provided does not exist", None)));
        };
        let refusal = match status {
            "paid" | "partially_paid" => {
                Some("cannot cancel or expire an already paid/partially paid link")
            }
            // The page's own words for "expired or cancelled".
            "expired" | "cancelled" => Some("cannot cancel or expire an expired link"),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Err(Box::new(bad(refusal).about(&link.reference_id)));
        }
        link.status = "cancelled";
        link.cancelled_at = now;
        link.updated_at = now;
        let link = link.clone();
        let payload = json!({"payment_link": {"entity": hook_link(&link)}});
        self.emit(
            &link.account,
            "payment_link.cancelled",
            &["payment_link"],
            payload,
            &link.reference_id,
            desk,
        );
        Ok(Answer::json(200, &self.show_link(&link)).about(&link.reference_id))
    }

    /// "Create a Normal Refund", "Create an Instant Refund" and their idempotent forms.
    fn create_refund(
        &mut self,
        account: &Account,
        id: &str,
        call: &Call,
        desk: &mut Desk,
    ) -> Reply {
        let payment = self.payment(account, id)?.clone();
        let reference = self.reference_of(&payment);
        let body = if call.body.is_empty() {
            json!({})
        } else {
            Self::body(call)?
        };
        let key = match call.header("x-refund-idempotency") {
            None => None,
            Some(key) => {
                // "at least 10 character long and can contain alphabets, numbers, hyphens and underscores only"
                if key.len() < 10 {
                    return Err(Box::new(
                        bad("The idempotency key must be at least 10 characters long.")
                            .about(reference),
                    ));
                }
                let fits = key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                if !fits {
                    let why = "The idempotency key must only contain alphanumeric characters, underscores, and hyphens";
                    return Err(Box::new(bad(why).about(reference)));
                }
                Some((account.key_id.clone(), key.to_owned()))
            }
        };
        if let Some(used) = key.as_ref().and_then(|key| self.keys.get(key)) {
            if used.payment_id != id || used.body != body {
                // The table of errors says 409, the text before it "rejected as a `BAD_REQUEST`".
                return Err(Box::new(
                    plain_error(
                        409,
                        "BAD_REQUEST_ERROR",
                        "Different request with the same idempotency key has already been processed.",
                    )
                    .about(reference),
                ));
            }
            let refund = self.refunds.get(&used.refund).map(show_refund);
            return Ok(Answer::json(200, &refund.unwrap_or_default()).about(reference));
        }
        let wanted = read_refund(&body)
            .map_err(|problem| Box::new(refund_problem(problem).about(&reference)))?;
        let amount = refundable(&payment, &wanted).map_err(|(description, field)| {
            Box::new(error(400, description, field).about(&reference))
        })?;
        // As merchants report it; the documents do not print it. Nothing is remembered under the key.
        if let Some(held) = self
            .accounts
            .get_mut(&account.key_id)
            .and_then(|account| account.balance.as_mut())
        {
            if amount > *held {
                let why =
                    "Your account does not have enough balance to carry out the refund operation.";
                return Err(Box::new(bad(why).about(&reference)));
            }
            *held = held.saturating_sub(amount);
        }
        let refund_id = self.start_refund(account, &payment, amount, wanted, desk);
        if let Some(key) = key {
            self.keys.insert(
                key,
                Used {
                    payment_id: id.to_owned(),
                    body,
                    refund: refund_id.clone(),
                },
            );
        }
        let shown = self.refunds.get(&refund_id).map(show_refund);
        Ok(Answer::json(200, &shown.unwrap_or_default()).about(reference))
    }

    /// A refund comes into being and ends as its account's refunds do; gives its id.
    fn start_refund(
        &mut self,
        account: &Account,
        payment: &Payment,
        amount: i64,
        wanted: WantedRefund,
        desk: &mut Desk,
    ) -> String {
        let now = desk.now();
        let is_too_old =
            wanted.speed == "normal" && now.saturating_sub(payment.created_at) > REFUNDABLE;
        let id = format!("rfnd_{}", desk.id(14));
        let refund = Refund {
            account: account.key_id.clone(),
            id: id.clone(),
            payment_id: payment.id.clone(),
            amount,
            status: "pending",
            speed_processed: if wanted.speed == "optimum" {
                "instant"
            } else {
                "normal"
            },
            speed_requested: wanted.speed,
            receipt: wanted.receipt,
            notes: wanted.notes,
            arn: Value::Null,
            created_at: now,
        };
        if let Some(payment) = self.payments.get_mut(&payment.id) {
            payment.amount_refunded = payment.amount_refunded.saturating_add(amount);
            payment.refunds.push(id.clone());
            mark_refunded(payment);
        }
        self.refunds.insert(id.clone(), refund);
        self.emit_refund(&id, "refund.created", desk);
        let end = match account.refunds {
            RefundsEnd::Processed if !is_too_old => Some("processed"),
            RefundsEnd::Pending if !is_too_old => None,
            _ => Some("failed"),
        };
        match end {
            Some(end) if account.refund_seconds > 0 => {
                let at = now.saturating_add(account.refund_seconds);
                self.endings.insert((at, id.clone(), end));
            }
            Some(end) => self.end_refund(&id, end, desk),
            None => {}
        }
        self.tell_refund(&id, desk);
        id
    }

    /// Nobody captured it in time: it goes back by itself, and `captured` stays false.
    fn give_back(&mut self, payment_id: &str, desk: &mut Desk) {
        let Some(payment) = self
            .payments
            .get_mut(payment_id)
            .filter(|payment| payment.status == "authorized")
        else {
            return;
        };
        let id = format!("rfnd_{}", desk.id(14));
        payment.amount_refunded = payment.amount;
        payment.status = "refunded";
        payment.refunds.push(id.clone());
        let refund = Refund {
            account: payment.account.clone(),
            id: id.clone(),
            payment_id: payment.id.clone(),
            amount: payment.amount,
            status: "pending",
            speed_requested: "normal".to_owned(),
            speed_processed: "normal",
            receipt: Value::Null,
            notes: json!([]),
            arn: Value::Null,
            created_at: desk.now(),
        };
        self.refunds.insert(id.clone(), refund);
        self.emit_refund(&id, "refund.created", desk);
        self.end_refund(&id, "processed", desk);
    }

    fn get_refund(&self, account: &Account, id: &str) -> Reply {
        if !id.starts_with("rfnd_") {
            return Err(Box::new(error(
                400,
                format!("{id} is not a valid id"),
                None,
            )));
        }
        let refund = self
            .refunds
            .get(id)
            .filter(|refund| refund.account == account.key_id)
            .ok_or_else(|| Box::new(error(400, "The id provided does not exist", None)))?;
        let answer = Answer::json(200, &show_refund(refund));
        Ok(match self.payments.get(&refund.payment_id) {
            Some(payment) => answer.about(self.reference_of(payment)),
            None => answer,
        })
    }

    /// "Fetch Multiple Refunds for a Payment": the last 10, unless `count` and `skip` say otherwise.
    fn refunds_of(&self, payment: &Payment, call: &Call) -> Vec<Value> {
        let number = |name: &str, default: usize| {
            call.param(name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        payment
            .refunds
            .iter()
            .rev()
            .filter_map(|id| self.refunds.get(id))
            .map(show_refund)
            .skip(number("skip", 0))
            .take(number("count", 10))
            .collect()
    }

    /// What a payment inside WhatsApp sends from the gateway's side.
    fn emit_mirrored(&mut self, payment: &Payment, desk: &mut Desk) {
        let shown = self.show_payment(payment);
        let Some(order) = self.orders.get(&payment.order_id) else {
            return;
        };
        let order = show_order(order);
        let reference = self.reference_of(payment);
        let event = if payment.captured {
            "payment.captured"
        } else {
            "payment.failed"
        };
        self.emit(
            &payment.account,
            event,
            &["payment"],
            json!({"payment": {"entity": shown.clone()}}),
            &reference,
            desk,
        );
        if payment.captured {
            self.emit(
                &payment.account,
                "order.paid",
                &["payment", "order"],
                json!({"payment": {"entity": shown}, "order": {"entity": order}}),
                &reference,
                desk,
            );
        }
    }

    /// A refund asked for at WhatsApp.
    fn mirror_refund(
        &mut self,
        payment_id: &str,
        refund_id: &str,
        amount: i64,
        status: &'static str,
        desk: &mut Desk,
    ) {
        let Some(payment) = self.payments.get_mut(payment_id) else {
            return;
        };
        if !self.refunds.contains_key(refund_id) {
            payment.amount_refunded = payment.amount_refunded.saturating_add(amount);
            payment.refunds.push(refund_id.to_owned());
            mark_refunded(payment);
            let refund = Refund {
                account: payment.account.clone(),
                id: refund_id.to_owned(),
                payment_id: payment_id.to_owned(),
                amount,
                status: "pending",
                speed_requested: "normal".to_owned(),
                speed_processed: "normal",
                receipt: Value::Null,
                notes: json!([]),
                arn: Value::Null,
                created_at: desk.now(),
            };
            self.refunds.insert(refund_id.to_owned(), refund);
            self.emit_refund(refund_id, "refund.created", desk);
        }
        if status != "pending" {
            self.end_refund(refund_id, status, desk);
        }
    }

    /// Tells a vendor that shows the same refund.
    fn tell_refund(&self, id: &str, desk: &mut Desk) {
        if let Some(refund) = self.refunds.get(id) {
            desk.mirrors.push(Mirror::Refund {
                from: "razorpay",
                payment_id: refund.payment_id.clone(),
                refund_id: refund.id.clone(),
                amount: refund.amount,
                status: refund.status,
            });
        }
    }

    fn end_refund(&mut self, id: &str, status: &'static str, desk: &mut Desk) {
        let arn = desk.digits(14);
        let Some(refund) = self.refunds.get_mut(id) else {
            return;
        };
        refund.status = status;
        if status == "processed" {
            refund.arn = arn.into();
        } else if let Some(payment) = self.payments.get_mut(&refund.payment_id) {
            // A failed refund gives the amount back to what can be refunded.
            payment.amount_refunded = payment.amount_refunded.saturating_sub(refund.amount);
            mark_refunded(payment);
        }
        let event = if status == "processed" {
            "refund.processed"
        } else {
            "refund.failed"
        };
        self.emit_refund(id, event, desk);
    }

    fn emit_refund(&mut self, id: &str, event: &str, desk: &mut Desk) {
        let Some(refund) = self.refunds.get(id) else {
            return;
        };
        let Some(payment) = self.payments.get(&refund.payment_id) else {
            return;
        };
        let payload = json!({
            "refund": {"entity": show_refund(refund)},
            "payment": {"entity": self.show_payment(payment)},
        });
        let reference = self.reference_of(payment);
        let account = refund.account.clone();
        self.emit(
            &account,
            event,
            &["refund", "payment"],
            payload,
            &reference,
            desk,
        );
    }

    /// The order behind a link: it comes into being when the customer opens the link.
    fn open_order(&mut self, link: &Link, desk: &mut Desk) -> String {
        if let Some(id) = &link.order_id {
            return id.clone();
        }
        let id = format!("order_{}", desk.id(14));
        let order = Order {
            account: link.account.clone(),
            id: id.clone(),
            receipt: link.reference_id.clone(),
            amount: link.amount,
            amount_paid: 0,
            attempts: 0,
            status: "created",
            notes: copied_notes(link),
            created_at: desk.now(),
            updated_at: desk.now(),
            payments: Vec::new(),
        };
        self.orders.insert(id.clone(), order);
        if let Some(link) = self.links.get_mut(&link.id) {
            link.order_id = Some(id.clone());
        }
        id
    }

    fn attempt(&mut self, link: &Link, request: &Value, desk: &mut Desk) -> Payment {
        let order_id = self.open_order(link, desk);
        let account = self.accounts.get(&link.account);
        let offer = account.and_then(|account| account.offer.clone());
        let share = wanted_amount(link, request);
        let customers_fee = match account.map(|account| account.fee_bearer) {
            Some(FeeBearer::Customer) => share.saturating_mul(CUSTOMERS_FEE) / 10_000,
            _ => 0,
        };
        let off = offer.as_ref().map_or(0, |offer| offer.amount);
        let payment = Payment {
            account: link.account.clone(),
            id: format!("pay_{}", desk.id(14)),
            order_id: order_id.clone(),
            link: link.id.clone(),
            amount: share.saturating_add(customers_fee).saturating_sub(off),
            share,
            customers_fee,
            offer: offer.map(|offer| offer.id),
            amount_refunded: 0,
            status: "created",
            captured: false,
            method: wanted(request, "method").unwrap_or("upi").to_owned(),
            contact: request
                .get("contact")
                .or_else(|| link.customer.get("contact"))
                .cloned()
                .unwrap_or_else(|| "+919000090000".into()),
            email: link.customer.get("email").cloned().unwrap_or_default(),
            notes: copied_notes(link),
            rrn: desk.digits(12),
            error: None,
            created_at: desk.now(),
            refunds: Vec::new(),
        };
        if let Some(order) = self.orders.get_mut(&order_id) {
            order.attempts = order.attempts.saturating_add(1);
            if order.status == "created" {
                order.status = "attempted";
            }
            order.updated_at = desk.now();
            order.payments.push(payment.id.clone());
        }
        payment
    }

    fn fail(
        &mut self,
        link: &Link,
        request: &Value,
        why: [&'static str; 5],
        desk: &mut Desk,
    ) -> Result<Outcome, Refused> {
        let mut payment = match wanted(request, "payment_id") {
            // What the bank had agreed to is voided.
            Some(id) => self.earlier(link, id)?,
            None => self.attempt(link, request, desk),
        };
        self.uncaptured.retain(|(_, id)| *id != payment.id);
        payment.status = "failed";
        payment.error = Some(why);
        let payload = json!({"payment": {"entity": self.show_payment(&payment)}});
        let id = payment.id.clone();
        let order_id = payment.order_id.clone();
        self.payments.insert(id.clone(), payment);
        self.emit(
            &link.account,
            "payment.failed",
            &["payment"],
            payload,
            &link.reference_id,
            desk,
        );
        Ok(Outcome::Done(json!({
            "vendor": "razorpay", "payment_id": id, "order_id": order_id, "payment_link_id": link.id,
            "reference_id": link.reference_id, "status": "failed",
        })))
    }

    fn pay(&mut self, link: &Link, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        let now = desk.now();
        if wanted_amount(link, request) <= 0 {
            return Err(Refused::invalid("amount must be positive"));
        }
        let mut payment = match wanted(request, "payment_id") {
            Some(id) => self.earlier(link, id)?,
            None => self.attempt(link, request, desk),
        };
        if payment.status != "authorized" {
            payment.status = "authorized";
            payment.error = None;
            self.payments.insert(payment.id.clone(), payment.clone());
            self.uncaptured
                .insert((now.saturating_add(CAPTURABLE), payment.id.clone()));
            let authorized = json!({"payment": {"entity": self.show_payment(&payment)}});
            self.emit(
                &link.account,
                "payment.authorized",
                &["payment"],
                authorized,
                &link.reference_id,
                desk,
            );
        }
        let left = link.amount.saturating_sub(link.amount_paid);
        let is_partial = link.accept_partial && payment.share < left;
        let was_open = matches!(link.status, "created" | "partially_paid");
        if request.get("authorize_only") != Some(&Value::Bool(true)) {
            payment.status = "captured";
            payment.captured = true;
            self.payments.insert(payment.id.clone(), payment.clone());
            if let Some(order) = self.orders.get_mut(&payment.order_id) {
                order.amount_paid = order.amount_paid.saturating_add(payment.share);
                order.updated_at = now;
                if !is_partial {
                    order.status = "paid";
                }
            }
            if let Some(link) = self.links.get_mut(&link.id) {
                link.payments.push(payment.id.clone());
                link.amount_paid = link.amount_paid.saturating_add(payment.share);
                link.updated_at = now;
                // A late payment does not bring an expired or cancelled link back to life.
                if was_open {
                    link.status = if is_partial { "partially_paid" } else { "paid" };
                }
            }
            self.emit_capture(link, &payment, is_partial, was_open, desk);
        }
        let redirect = self.redirect(link, &payment);
        Ok(Outcome::Done(json!({
            "vendor": "razorpay", "payment_id": payment.id, "order_id": payment.order_id, "payment_link_id": link.id,
            "reference_id": link.reference_id, "amount": payment.amount, "status": payment.status, "redirect": redirect,
        })))
    }

    /// "Late authorisation": an attempt that failed, or was only authorised, succeeds after all.
    fn earlier(&self, link: &Link, id: &str) -> Result<Payment, Refused> {
        let payment = self
            .payments
            .get(id)
            .filter(|payment| payment.link == link.id)
            .ok_or_else(|| Refused::unknown(format!("the link has no payment {id:?}")))?;
        match payment.status {
            "failed" | "authorized" => Ok(payment.clone()),
            status => Err(Refused::conflict(
                "not_capturable",
                format!("the payment is {status}"),
            )),
        }
    }

    fn emit_capture(
        &mut self,
        link: &Link,
        payment: &Payment,
        is_partial: bool,
        was_open: bool,
        desk: &mut Desk,
    ) {
        let (Some(link), Some(order)) = (
            self.links.get(&link.id).cloned(),
            self.orders.get(&payment.order_id).cloned(),
        ) else {
            return;
        };
        let shown = self.show_payment(payment);
        self.emit(
            &link.account,
            "payment.captured",
            &["payment"],
            json!({"payment": {"entity": shown.clone()}}),
            &link.reference_id,
            desk,
        );
        if !is_partial {
            let payload = json!({"payment": {"entity": shown.clone()}, "order": {"entity": show_order(&order)}});
            self.emit(
                &link.account,
                "order.paid",
                &["payment", "order"],
                payload,
                &link.reference_id,
                desk,
            );
        }
        if was_open {
            let event = if is_partial {
                "payment_link.partially_paid"
            } else {
                "payment_link.paid"
            };
            let payload = json!({
                "payment_link": {"entity": hook_link(&link)},
                "order": {"entity": hook_order(&order, &link)},
                "payment": {"entity": shown},
            });
            self.emit(
                &link.account,
                event,
                &["payment_link", "order", "payment"],
                payload,
                &link.reference_id,
                desk,
            );
        }
    }

    /// The browser redirect ("Verify Signature"): keyed with the API secret, an empty reference keeps its slot.
    fn redirect(&self, link: &Link, payment: &Payment) -> Option<Value> {
        let url = link.callback_url.as_ref()?;
        let secret = &self.accounts.get(&link.account)?.key_secret;
        let status = self.links.get(&link.id)?.status;
        let message = redirect_message(&link.id, &link.reference_id, status, &payment.id);
        Some(json!({
            "callback_url": url,
            "razorpay_payment_id": payment.id,
            "razorpay_payment_link_id": link.id,
            "razorpay_payment_link_reference_id": link.reference_id,
            "razorpay_payment_link_status": status,
            "razorpay_signature": hmac_sha256_hex(secret.as_bytes(), message.as_bytes()),
        }))
    }

    fn emit(
        &mut self,
        account: &str,
        event: &str,
        contains: &[&str],
        payload: Value,
        reference_id: &str,
        desk: &mut Desk,
    ) {
        let Some(account) = self.accounts.get(account) else {
            return;
        };
        if account
            .events
            .as_ref()
            .is_some_and(|events| !events.iter().any(|wanted| wanted == event))
        {
            return;
        }
        let body = json!({
            "entity": "event",
            "account_id": account.account_id.clone().unwrap_or_else(|| format!("acc_{}", account.key_id)),
            "event": event,
            "contains": contains,
            "payload": payload,
            "created_at": desk.now(),
        });
        let reference = Some(reference_id).filter(|reference| !reference.is_empty());
        if let Some(draft) = draft(
            account,
            event,
            body.to_string().into_bytes(),
            reference,
            desk,
        ) {
            desk.send(draft);
        }
    }

    /// A plain page: the link must lead somewhere for a person who follows the demo.
    fn page(&self, id: &str) -> Answer {
        let Some(link) = self.links.get(id) else {
            return Answer::html(
                404,
                "<!doctype html><title>Unknown link</title><p>Unknown link".to_owned(),
            );
        };
        let rupees = link.amount / 100;
        let paise = link.amount % 100;
        let status = link.status;
        let button = if matches!(status, "created" | "partially_paid") {
            "<form method=\"post\"><button>Pay</button></form>"
        } else {
            ""
        };
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Payment</title>\
             <h1>Rs. {rupees}.{paise:02}</h1><p>Status: {status}</p>{button}</html>"
        );
        Answer::html(200, body).about(&link.reference_id)
    }

    /// The page's button: pays, and leads where Razorpay would lead the browser.
    fn pay_on_page(&mut self, id: &str, desk: &mut Desk) -> Answer {
        let done = match self.customer(Act::Pay, &json!({"link": id}), desk) {
            Ok(Outcome::Done(done)) => done,
            Ok(Outcome::Follow(_)) | Err(_) => return self.page(id),
        };
        let mut location = format!("/razorpay/pay/{id}");
        if let Some(redirect) = done.get("redirect").and_then(Value::as_object) {
            let text = |name: &str| {
                redirect
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let query: Vec<String> = redirect
                .keys()
                .filter(|name| *name != "callback_url")
                .map(|name| {
                    let value = percent_encoding::utf8_percent_encode(
                        text(name),
                        percent_encoding::NON_ALPHANUMERIC,
                    );
                    format!("{name}={value}")
                })
                .collect();
            let url = text("callback_url");
            let joint = if url.contains('?') { '&' } else { '?' };
            location = format!("{url}{joint}{}", query.join("&"));
        }
        let mut answer = self.page(id);
        answer.status = 303;
        answer.headers.push(("location".to_owned(), location));
        answer
    }

    fn show_link(&self, link: &Link) -> Value {
        let payments: Vec<Value> = link
            .payments
            .iter()
            .filter_map(|id| self.payments.get(id))
            .map(|payment| {
                json!({
                    "amount": payment.amount,
                    "created_at": payment.created_at,
                    "method": payment.method,
                    "payment_id": payment.id,
                    "plink_id": link.id,
                    "status": "captured",
                    "updated_at": payment.created_at,
                })
            })
            .collect();
        let mut shown = base_link(link);
        if let Some(map) = shown.as_object_mut() {
            // "It is populated only after a payment is successfully captured ... Until then, the value is `null`."
            map.insert(
                "payments".to_owned(),
                if payments.is_empty() {
                    Value::Null
                } else {
                    payments.into()
                },
            );
        }
        shown
    }

    fn show_payment(&self, payment: &Payment) -> Value {
        let stripped = payment.link.strip_prefix("plink_").unwrap_or_default();
        let vpa = if payment.method == "upi" {
            json!("gaurav.kumar@exampleupi")
        } else {
            Value::Null
        };
        let bears = payment.customers_fee > 0;
        let (fee, tax) = if !payment.captured {
            (Value::Null, Value::Null)
        } else if bears {
            let tax = payment.customers_fee.saturating_mul(18) / 118;
            (json!(payment.customers_fee), json!(tax))
        } else {
            (json!(payment.amount.saturating_mul(2) / 100), json!(0))
        };
        let [code, description, source, step, reason] = payment
            .error
            .map_or([const { Value::Null }; 5], |error| error.map(Value::from));
        let refund_status = if payment.amount_refunded == 0 {
            Value::Null
        } else if payment.amount_refunded >= payment.amount {
            json!("full")
        } else {
            json!("partial")
        };
        let mut shown = json!({
            "id": payment.id,
            "entity": "payment",
            "amount": payment.amount,
            "base_amount": payment.amount,
            "currency": "INR",
            "status": payment.status,
            "order_id": payment.order_id,
            "invoice_id": null,
            "international": false,
            "method": payment.method,
            "amount_refunded": payment.amount_refunded,
            "amount_transferred": 0,
            "refund_status": refund_status,
            "captured": payment.captured,
            "description": if stripped.is_empty() { Value::Null } else { format!("#{stripped}").into() },
            "card_id": null,
            "bank": null,
            "wallet": null,
            "vpa": vpa,
            "email": payment.email,
            "contact": payment.contact,
            "notes": payment.notes,
            "fee": fee,
            "tax": tax,
            "error_code": code,
            "error_description": description,
            "error_source": source,
            "error_step": step,
            "error_reason": reason,
            "acquirer_data": {"rrn": if payment.error.is_some() { Value::Null } else { payment.rrn.clone().into() }},
            "created_at": payment.created_at,
        });
        let Some(map) = shown.as_object_mut() else {
            return shown;
        };
        if bears {
            map.insert("fee_bearer".to_owned(), "customer".into());
        }
        if let Some(offer) = &payment.offer {
            map.insert("offer_id".to_owned(), offer.as_str().into());
        }
        if payment.method == "upi" {
            map.insert(
                "upi".to_owned(),
                json!({"payer_account_type": "bank_account", "vpa": vpa, "flow": "intent"}),
            );
        }
        shown
    }
}

/// How much a refund gives back, or what is said and of which field when it cannot.
fn refundable(
    payment: &Payment,
    wanted: &WantedRefund,
) -> Result<i64, (&'static str, Option<&'static str>)> {
    if !payment.captured {
        return Err((
            "The payment status should be captured for action to be taken",
            None,
        ));
    }
    // Whether a fee that the customer bore goes back is not documented; here Razorpay keeps it.
    let left = payment
        .amount
        .saturating_sub(payment.customers_fee)
        .saturating_sub(payment.amount_refunded);
    if left <= 0 {
        return Err(("The payment has been fully refunded already", None));
    }
    let amount = wanted.amount.unwrap_or(left);
    if amount > left {
        return Err((
            "The refund amount provided is greater than amount captured",
            Some("amount"),
        ));
    }
    Ok(amount)
}

/// A fully refunded payment is `refunded` ("Payment states"); `captured` stays true.
fn mark_refunded(payment: &mut Payment) {
    payment.status = if payment.amount_refunded >= payment.amount {
        "refunded"
    } else {
        "captured"
    };
}

fn redirect_message(link: &str, reference: &str, status: &str, payment: &str) -> String {
    format!("{link}|{reference}|{status}|{payment}")
}

/// The notes of a link, as its order and its payments carry them.
///
/// webhooks/payment-links.md: in the sample with notes (payment_link.paid, UPI) the link, the order and the payment all
/// carry the same; in the sample without, the link's are `null` and the others' `[]`.
fn copied_notes(link: &Link) -> Value {
    link.notes.clone().map_or_else(|| json!([]), Value::Object)
}

fn check_expiry(expire_by: i64, now: i64) -> Result<i64, Problem> {
    if expire_by < now.saturating_add(EARLIEST_EXPIRY) {
        return Err(Problem::value(
            "expire_by",
            "timestamp must be atleast 15 minutes in future",
        ));
    }
    if expire_by > now.saturating_add(LATEST_EXPIRY) {
        return Err(Problem::value(
            "expire_by",
            "expire_by cannot be more than six months from the date of creation",
        ));
    }
    Ok(expire_by)
}

fn read_link(body: &Value, account: &Account, now: i64) -> Result<Link, Box<Answer>> {
    let read = || -> Result<Link, Problem> {
        let fields = Fields::of(
            body,
            "",
            &[
                "amount",
                "currency",
                "accept_partial",
                "first_min_partial_amount",
                "upi_link",
                "expire_by",
                "reference_id",
                "description",
                "customer",
                "notify",
                "reminder_enable",
                "notes",
                "callback_url",
                "callback_method",
                "options",
            ],
        )?;
        let amount = fields.need_integer("amount")?;
        if amount < LEAST_PAISE {
            return Err(Problem::value(
                "amount",
                "The amount must be at least INR 1.00",
            ));
        }
        // The product sells in rupees only; another currency is a mistake of the caller, not a case to play.
        fields.word("currency", &["INR"])?;
        let customer = fields.object("customer", &["name", "email", "contact"])?;
        if let Some(customer) = &customer {
            customer.text("name", 256)?;
            customer.text("email", 256)?;
            customer.text("contact", 20)?;
        }
        let notify = fields.object("notify", &["sms", "email", "whatsapp"])?;
        let channel = |name: &str| match &notify {
            Some(notify) => notify.boolean(name).map(|on| on.unwrap_or(false)),
            None => Ok(false),
        };
        let (sms, email, whatsapp) = (channel("sms")?, channel("email")?, channel("whatsapp")?);
        let callback_url = fields.text("callback_url", 2048)?;
        let method = fields.word("callback_method", &["get"])?;
        if let Some(url) = callback_url {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(Problem::value(
                    "callback_url",
                    "The callback url format is invalid.",
                ));
            }
            // "If `callback_url` parameter is passed, callback_method must be passed with the value `get`."
            if method.is_none() {
                return Err(Problem::Missing {
                    path: "callback_method".to_owned(),
                });
            }
        }
        let accept_partial = fields.boolean("accept_partial")?.unwrap_or(false);
        let upi_link = fields.boolean("upi_link")?.unwrap_or(false);
        if upi_link && account.key_id.starts_with("rzp_test_") {
            return Err(Problem::value(
                "upi_link",
                "UPI Payment Links is not supported in Test Mode. Please experience the product in Live Mode.",
            ));
        }
        if upi_link && accept_partial {
            return Err(Problem::value(
                "accept_partial",
                "partial payment not supported in upi link",
            ));
        }
        let first_min_partial_amount = fields.integer("first_min_partial_amount")?.unwrap_or(0);
        if first_min_partial_amount > 0 && !accept_partial {
            // "Must be passed along with `accept_partial` parameter."
            return Err(Problem::Missing {
                path: "accept_partial".to_owned(),
            });
        }
        let expire_by = match fields.integer("expire_by")? {
            Some(expire_by) => check_expiry(expire_by, now)?,
            None => 0,
        };
        Ok(Link {
            account: account.key_id.clone(),
            id: String::new(),
            amount,
            amount_paid: 0,
            accept_partial,
            first_min_partial_amount,
            reference_id: fields
                .text("reference_id", 40)?
                .unwrap_or_default()
                .to_owned(),
            description: fields
                .text("description", 2048)?
                .unwrap_or_default()
                .to_owned(),
            customer: fields.get("customer").cloned().unwrap_or_else(|| json!({})),
            notify: json!({"email": email, "sms": sms, "whatsapp": whatsapp}),
            notes: fields.pairs("notes", 15, 256)?.cloned(),
            callback_url: callback_url.map(str::to_owned),
            reminder_enable: fields.boolean("reminder_enable")?.unwrap_or(false),
            upi_link,
            expire_by,
            expired_at: 0,
            cancelled_at: 0,
            created_at: now,
            updated_at: now,
            status: "created",
            order_id: None,
            short_url: String::new(),
            payments: Vec::new(),
        })
    };
    read().map_err(|problem| Box::new(link_problem(problem)))
}

struct WantedRefund {
    amount: Option<i64>,
    speed: String,
    receipt: Value,
    notes: Value,
}

fn read_refund(body: &Value) -> Result<WantedRefund, Problem> {
    let fields = Fields::of(body, "", &["amount", "speed", "notes", "receipt"])?;
    let amount = fields.integer("amount")?;
    // `instant` is a word of the answer (`speed_processed`), not of the request.
    let speed = fields
        .word("speed", &["normal", "optimum"])?
        .unwrap_or("normal");
    // "Refund amounts of ₹1 or lower are now supported" (Create an Instant Refund).
    let least = if speed == "optimum" { 1 } else { LEAST_PAISE };
    if amount.is_some_and(|amount| amount < least) {
        return Err(Problem::value(
            "amount",
            "The amount must be at least INR 1.00",
        ));
    }
    Ok(WantedRefund {
        amount,
        speed: speed.to_owned(),
        receipt: fields.text("receipt", 40)?.map_or(Value::Null, Value::from),
        notes: fields
            .pairs("notes", 15, 256)?
            .map_or_else(|| json!([]), |notes| Value::Object(notes.clone())),
    })
}

/// What a link says in answers and in webhooks alike ("Payment Links Entity").
fn base_link(link: &Link) -> Value {
    let mut shown = json!({
        "accept_partial": link.accept_partial,
        "amount": link.amount,
        "amount_paid": link.amount_paid,
        "cancelled_at": link.cancelled_at,
        "created_at": link.created_at,
        "currency": "INR",
        "customer": link.customer,
        "description": link.description,
        "expire_by": link.expire_by,
        "expired_at": link.expired_at,
        "first_min_partial_amount": link.first_min_partial_amount,
        "id": link.id,
        "notes": link.notes,
        "notify": link.notify,
        "reference_id": link.reference_id,
        "reminder_enable": link.reminder_enable,
        "reminders": [],
        "short_url": link.short_url,
        "status": link.status,
        "updated_at": link.updated_at,
        "upi_link": link.upi_link,
        "user_id": "",
        "whatsapp_link": false,
    });
    if let Some(map) = shown.as_object_mut() {
        if let Some(url) = &link.callback_url {
            map.insert("callback_method".to_owned(), "get".into());
            map.insert("callback_url".to_owned(), url.as_str().into());
        }
        // Present in the samples of paid links, absent in those of unpaid ones.
        if let (Some(order), true) = (&link.order_id, link.amount_paid > 0) {
            map.insert("order_id".to_owned(), order.as_str().into());
        }
    }
    shown
}

/// The link inside a webhook: without `payments`.
fn hook_link(link: &Link) -> Value {
    base_link(link)
}

/// "Orders Entity".
fn show_order(order: &Order) -> Value {
    json!({
        "id": order.id,
        "entity": "order",
        "amount": order.amount,
        "amount_paid": order.amount_paid,
        "amount_due": order.amount.saturating_sub(order.amount_paid).max(0),
        "currency": "INR",
        "receipt": order.receipt,
        "offer_id": null,
        "status": order.status,
        "attempts": order.attempts,
        "notes": order.notes,
        "created_at": order.created_at,
    })
}

/// The order inside a `payment_link.*` event: another shape, and its id has no `order_` (webhooks/payment-links.md).
fn hook_order(order: &Order, link: &Link) -> Value {
    json!({
        "account_number": null,
        "amount": order.amount,
        "amount_due": order.amount.saturating_sub(order.amount_paid).max(0),
        "amount_paid": order.amount_paid,
        "app_offer": false,
        "attempts": order.attempts,
        "authorized": true,
        "bank": null,
        "created_at": order.created_at,
        "currency": "INR",
        "customer_id": null,
        "discount": false,
        "id": order.id.strip_prefix("order_").unwrap_or(&order.id),
        "method": null,
        "notes": order.notes,
        "offers": {},
        "order_metas": [],
        "partial_payment": link.accept_partial,
        "payer_name": null,
        "payment_capture": true,
        "product_id": link.stripped(),
        "product_type": "payment_link_v2",
        "receipt": order.receipt,
        "status": order.status,
        "transfers": null,
        "updated_at": order.updated_at,
    })
}

/// "Refund Entity".
fn show_refund(refund: &Refund) -> Value {
    json!({
        "id": refund.id,
        "entity": "refund",
        "amount": refund.amount,
        "currency": "INR",
        "payment_id": refund.payment_id,
        "notes": refund.notes,
        "receipt": refund.receipt,
        "acquirer_data": {"arn": refund.arn},
        "created_at": refund.created_at,
        "batch_id": null,
        "status": refund.status,
        "speed_processed": refund.speed_processed,
        "speed_requested": refund.speed_requested,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_signed_as_the_sdk_signs_them() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/razorpay.json")).unwrap();
        let mut checked = 0;
        for vector in vectors["vectors"].as_array().unwrap() {
            if vector["kind"] != "payment_link_callback" {
                continue;
            }
            let part = |name: &str| vector["params"][name].as_str().unwrap();
            let message = redirect_message(
                part("payment_link_id"),
                part("payment_link_reference_id"),
                part("payment_link_status"),
                part("payment_id"),
            );
            let secret = vector["secret"].as_str().unwrap();
            assert_eq!(
                hmac_sha256_hex(secret.as_bytes(), message.as_bytes()),
                vector["expected_signature"].as_str().unwrap(),
                "{}",
                vector["id"]
            );
            checked += 1;
        }
        assert_eq!(checked, 2);
    }
}
