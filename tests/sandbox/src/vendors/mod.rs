//! The vendors. Another one is one file here and one line in [`all`].

mod billdesk;
mod exotel;
mod kaleyra;
mod meta;
mod order_details;
mod payu;
mod razorpay;
mod sms;
mod whatsapp;
mod zaakpay;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};

/// What a customer does at a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Pays.
    Pay,
    /// Tries to pay and fails.
    Fail,
    /// Opens the payment and gives it up.
    Cancel,
    /// Writes to the shop.
    Message,
    /// Reads what the shop sent.
    Read,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is done; what the control API answers.
    Done(Value),
    /// The message led to a link of another vendor: the customer goes on there.
    Follow(String),
}

/// Why the control API cannot do what it was asked.
#[derive(Debug)]
pub(crate) struct Refused {
    /// HTTP status.
    pub(crate) status: u16,
    /// Stable code.
    pub(crate) code: &'static str,
    /// In words.
    pub(crate) detail: String,
}

impl Refused {
    /// The request itself is wrong.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: "invalid",
            detail: detail.into(),
        }
    }

    /// There is no such thing.
    pub(crate) fn unknown(detail: impl Into<String>) -> Self {
        Self {
            status: 404,
            code: "not_found",
            detail: detail.into(),
        }
    }

    /// There is, but it cannot be done now.
    pub(crate) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status: 409,
            code,
            detail: detail.into(),
        }
    }
}

/// One vendor: its API, its state, and what its customers can do.
pub(crate) trait Vendor: Send {
    /// Its name: the first segment of its paths.
    fn name(&self) -> &'static str;

    /// Every operation, as faults and records name them.
    fn operations(&self) -> &'static [&'static str];

    /// Every webhook event, as faults and records name them.
    fn events(&self) -> &'static [&'static str];

    /// Which operation a call is.
    fn operation(&self, call: &Call) -> &'static str;

    /// Answers a call.
    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer;

    /// The body of its error with this status, and its own code where it has one.
    fn error(&self, status: u16, code: Option<i64>, desk: &mut Desk) -> Value;

    /// Adds an account, or changes what is said of it while keeping what happened in it.
    fn register(&mut self, account: &Value) -> Result<(), Refused>;

    /// Does what is due by now.
    fn tick(&mut self, desk: &mut Desk);

    /// Whether a payment link is one of its own.
    fn owns(&self, link: &str) -> bool;

    /// What its own payment link says: reference, amount, expiry. For comparing a message with the link in it.
    fn link_facts(&self, _link: &str) -> Option<(String, i64, i64)> {
        None
    }

    /// Lets a customer act.
    fn customer(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused>;

    /// Hears what happened at another vendor.
    fn mirror(&mut self, _mirror: &Mirror, _desk: &mut Desk) {}

    /// Ends a refund that was left pending; `speed` if it came to be processed at another than requested.
    fn settle_refund(
        &mut self,
        id: &str,
        status: &str,
        speed: Option<&str>,
        desk: &mut Desk,
    ) -> Result<Value, Refused>;

    /// A refund made by hand where the merchant looks at payments, for vendors that have such a place.
    fn refund_in_dashboard(
        &mut self,
        _request: &Value,
        _desk: &mut Desk,
    ) -> Result<Value, Refused> {
        Err(Refused::unknown("no such payment"))
    }

    /// A webhook to one of its accounts with any body, signed rightly unless a signature is given.
    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        signature: Option<&str>,
        desk: &mut Desk,
    ) -> Result<HookDraft, Refused>;

    /// The GET that proves the webhook URL is ours, for vendors that have one.
    fn verification_url(
        &self,
        _account: Option<&str>,
        _token: Option<&str>,
        _challenge: &str,
    ) -> Option<String> {
        None
    }

    /// What a phone received, oldest first.
    fn inbox(&self, _phone: &str) -> Vec<Value> {
        Vec::new()
    }

    /// What `POST /_control/customer/phone` says about a phone.
    fn set_phone(&mut self, _phone: &str, _request: &Value) {}
}

/// Every vendor, without accounts.
pub(crate) fn all() -> Vec<Box<dyn Vendor>> {
    vec![
        Box::new(meta::Meta::default()),
        Box::new(razorpay::Razorpay::default()),
        Box::new(payu::Payu::default()),
        Box::new(exotel::Exotel::default()),
        Box::new(kaleyra::Kaleyra::default()),
        Box::new(zaakpay::Zaakpay::default()),
        Box::new(billdesk::BillDesk::default()),
    ]
}

/// What is known of an account and what is new, by the field that names it. What is not said again stays.
fn merged(
    known: &BTreeMap<String, Value>,
    key: &str,
    account: &Value,
) -> Result<(String, Value), Refused> {
    let name =
        wanted(account, key).ok_or_else(|| Refused::invalid(format!("{key} must be a string")))?;
    let mut merged = known.get(name).cloned().unwrap_or_else(|| json!({}));
    if let (Some(merged), Some(account)) = (merged.as_object_mut(), account.as_object()) {
        merged.extend(account.clone());
    }
    Ok((name.to_owned(), merged))
}

/// Text of a request to the control API.
fn wanted<'a>(request: &'a Value, key: &str) -> Option<&'a str> {
    request.get(key).and_then(Value::as_str)
}
