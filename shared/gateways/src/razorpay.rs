//! Razorpay, through Payment Links (standard or UPI), and its refunds.
//!
//! Documents: "Create a Standard Payment Link", "Create a UPI Payment Link", "Fetch Payment Links", "Cancel a Standard Payment
//! Link", "Fetch Payments Based on Orders", "Create a Normal Refund", "Create an Instant Refund" and their idempotent forms, "Handle
//! Refund Errors", "Fetch Multiple Refunds for a Payment", "Payment Links", "Payments" and "Refunds Webhook Events", in
//! razorpay/markdown-docs of 2026-04-09.
//!
//! What shapes this file:
//! - There is no idempotency header for links, but a `reference_id` is taken once. So the number of the bill is the key, and
//!   before a second creation the first one is looked for.
//! - Webhooks name the bill in three ways: a link's `reference_id`, a note of ours, and the `receipt` of the order the link makes.
//!   The documents do not say that a link's notes reach its payments, but their samples do: in `payment_link.paid (UPI)` the same
//!   note stands on link, order and payment, and where the link has none the others have none. Bare `payment.*` events have
//!   neither link nor receipt, so the note [`NOTE`] is what finds their bill; without it they are ignored and `payment_link.paid`
//!   or the lookup tells of the money.
//! - A payment made inside WhatsApp has no link. Where the messaging provider cannot be asked either (Exotel), it puts a proof next to
//!   the note, and a signed event that carries it back names the bill for certain.
//! - `captured: true` is not believed: the documents print a failed card payment with it. `captured: false` is: it is how the refund
//!   of a payment that nobody ever captured differs from one of ours.
//! - Refunds have an idempotency header, so asking again with the same key is safe; how long keys are remembered is not said, so a
//!   refusal that an earlier request of ours may have caused is looked into. `receipt` and the note [`REFUND_NOTE`] name our refund.
//! - Webhooks of refunds have no link. What finds their bill is a note, so they are hints, and the lookup lists a payment's refunds,
//!   those of the dashboard too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    AttemptStatus, Canceled, Closed, Found, LookupRequest, PROOF_NOTE, PayForm, PaymentMode,
    PaymentReport, PaymentRequest, RefundReport, RefundRequest, RefundStatus, Speed, Started,
};
use chatbill_domain::proof::BillProofs;
use chatbill_domain::signature;
use chatbill_domain::tenant::{self, PaymentSettings};
use chatbill_domain::time::Millis;
use chatbill_domain::webhook::{RawWebhook, Refused, Unreadable, VerifiedWebhook};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

/// "API Reference": one host; the key decides between test and live.
const BASE_URL: &str = "https://api.razorpay.com";
/// "Authentication": how key ids of the test mode begin.
const TEST_KEY: &str = "rzp_test_";
/// "Create a Standard Payment Link", errors: "timestamp must be atleast 15 minutes in future".
const SHORTEST_EXPIRY: i64 = 900;
/// "Create a Standard Payment Link": amounts are in paise; orders below INR 1.00 are refused ("Orders", amount).
const SMALLEST_AMOUNT: i64 = 100;
/// "Create a Standard Payment Link": at most 15 notes.
const MOST_NOTES: usize = 15;
/// "Create a Standard Payment Link": at most 2048 characters.
const LONGEST_DESCRIPTION: usize = 2048;
/// Our note on every link and every refund; see the head of this file.
const NOTE: &str = chatbill_domain::payment::REFERENCE_NOTE;
/// Our note on every refund: its token. The `receipt` has it too, but the documents print answers without the receipt that was sent.
const REFUND_NOTE: &str = "chatbill_refund";
/// "Create a Standard Payment Link", errors: a note's value has at most 255 characters.
const LONGEST_NOTE: usize = 255;
/// "Create a Normal Refund", errors: "The amount must be at least INR 1.00". "Create an Instant Refund": "Refund amounts of ₹1 or
/// lower are now supported".
const SMALLEST_REFUND: i64 = 100;
/// "Create a Normal Refund": not possible "for a payment which is more than 6 months old". The longest six months there are, in
/// seconds: what is refused here would be refused there.
const REFUNDABLE: i64 = 184 * 24 * 3600;
/// "Fetch All Refunds": at most 100 at once; without `count` only the last ten are shown.
const REFUNDS_PAGE: usize = 100;
/// So many pages of one payment's refunds are read. Nobody refunds a bill 500 times.
const REFUNDS_PAGES: usize = 5;

/// Everything but RFC 3986's unreserved characters, for one path segment or query value.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

struct Razorpay {
    base: String,
    authorization: SecretString,
    webhook_secrets: Vec<SecretString>,
    /// Links are UPI Payment Links: they open UPI apps and take nothing else.
    upi_link: bool,
    /// In native checkout the order's receipt is the merchant's own number, not the bill's.
    receipts_are_ours: bool,
    /// In native checkout only; elsewhere the link can be asked.
    proofs: Option<BillProofs>,
}

pub(crate) fn open(settings: &PaymentSettings) -> Result<Box<dyn Gateway>, Vec<Fault>> {
    let account = &settings.account;
    let mut faults = Vec::new();
    if settings.mode == PaymentMode::UpiIntent {
        faults.push(Fault::new(
            "/payment/mode",
            "impossible",
            "razorpay documents no API that gives a UPI intent; payment_link with upi_link comes nearest",
        ));
    }
    let read = account.credentials.read("/payment/credentials", |f| {
        let id = tenant::secret(f, "key_id");
        let secret = tenant::secret(f, "key_secret");
        let webhook_secrets = tenant::secrets(f, "webhook_secrets");
        // A colon would end the user name of the Basic scheme early (RFC 7617).
        if id
            .as_ref()
            .is_some_and(|id| id.expose_secret().contains(':'))
        {
            f.fault("key_id", "invalid", "must not contain a colon");
        }
        let upi_link = f.boolean("upi_link").unwrap_or(false);
        if upi_link && settings.mode != PaymentMode::PaymentLink {
            f.fault("upi_link", "impossible", "is for the mode payment_link");
        }
        // "Create a UPI Payment Link", errors: "UPI Payment Links is not supported in Test Mode."
        if upi_link
            && id
                .as_ref()
                .is_some_and(|id| id.expose_secret().starts_with(TEST_KEY))
        {
            let detail = "Razorpay has no UPI links in test mode; key_id must be a live one";
            f.fault("upi_link", "impossible", detail);
        }
        Some((id?, secret?, webhook_secrets?, upi_link))
    });
    match read {
        Ok((id, secret, webhook_secrets, upi_link)) if faults.is_empty() => {
            let pair = format!("{}:{}", id.expose_secret(), secret.expose_secret());
            Ok(Box::new(Razorpay {
                base: account
                    .base_url
                    .clone()
                    .unwrap_or_else(|| BASE_URL.to_owned()),
                authorization: SecretString::from(format!("Basic {}", STANDARD.encode(pair))),
                webhook_secrets,
                upi_link,
                receipts_are_ours: settings.mode == PaymentMode::PaymentLink,
                proofs: (settings.mode == PaymentMode::PaymentGateway)
                    .then(|| settings.proofs.clone()),
            }))
        }
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

impl Razorpay {
    fn get(&self, label: &'static str, path: &str) -> HttpCall {
        HttpCall::get(
            label,
            format!("{}{path}", self.base),
            self.authorization.clone(),
        )
    }

    fn fetch_link(&self, id: &str) -> HttpCall {
        let id = utf8_percent_encode(id, STRICT);
        self.get("razorpay.fetch_link", &format!("/v1/payment_links/{id}"))
    }

    fn find_links(&self, reference: &ReferenceId) -> HttpCall {
        let reference = utf8_percent_encode(reference.as_str(), STRICT);
        self.get(
            "razorpay.find_link",
            &format!("/v1/payment_links?reference_id={reference}"),
        )
    }

    fn order_payments(&self, order_id: &str) -> HttpCall {
        let id = utf8_percent_encode(order_id, STRICT);
        self.get(
            "razorpay.order_payments",
            &format!("/v1/orders/{id}/payments"),
        )
    }

    fn cancel_link(&self, id: &str) -> HttpCall {
        let id = utf8_percent_encode(id, STRICT);
        HttpCall {
            method: Method::Post,
            ..self.get(
                "razorpay.cancel_link",
                &format!("/v1/payment_links/{id}/cancel"),
            )
        }
    }

    fn create_link(&self, request: &PaymentRequest) -> HttpCall {
        let mut notes: Map<String, Value> = request
            .notes
            .iter()
            .take(MOST_NOTES)
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        // Ours wins over a merchant's note of the same name, because it decides which bill a payment belongs to.
        if notes.len() < MOST_NOTES || notes.contains_key(NOTE) {
            notes.insert(NOTE.to_owned(), Value::from(request.reference.as_str()));
        }
        let description: String = request
            .description
            .chars()
            .take(LONGEST_DESCRIPTION)
            .collect();
        let mut link = json!({
            "amount": request.amount.get(),
            "currency": "INR",
            "accept_partial": false,
            "expire_by": request.expires_at.seconds(),
            "reference_id": request.reference.as_str(),
            "description": description,
            // The customer hears from the shop's own channel, never from the gateway as well.
            "notify": {"sms": false, "email": false},
            "reminder_enable": false,
            "notes": notes,
            "callback_url": request.return_url,
            "callback_method": "get",
        });
        if let (true, Some(fields)) = (self.upi_link, link.as_object_mut()) {
            fields.insert("upi_link".to_owned(), Value::from(true));
        }
        HttpCall::post_json(
            "razorpay.create_link",
            format!("{}/v1/payment_links", self.base),
            self.authorization.clone(),
            &link,
        )
    }

    fn fetch_refund(&self, id: &str) -> HttpCall {
        let id = utf8_percent_encode(id, STRICT);
        self.get("razorpay.fetch_refund", &format!("/v1/refunds/{id}"))
    }

    /// The refunds of a payment, newest first.
    fn list_refunds(&self, payment_id: &str, skip: usize) -> HttpCall {
        let id = utf8_percent_encode(payment_id, STRICT);
        self.get(
            "razorpay.list_refunds",
            &format!("/v1/payments/{id}/refunds?count={REFUNDS_PAGE}&skip={skip}"),
        )
    }

    /// "When retrying a request, the request body must be the same": it has nothing but what belongs to the refund for good.
    fn create_refund(&self, request: &RefundRequest) -> HttpCall {
        let id = utf8_percent_encode(&request.payment_id, STRICT);
        let mut notes = Map::new();
        notes.insert(NOTE.to_owned(), request.reference.as_str().into());
        notes.insert(REFUND_NOTE.to_owned(), request.token.as_str().into());
        if let Some(reason) = &request.reason {
            let reason: String = reason.chars().take(LONGEST_NOTE).collect();
            notes.insert("reason".to_owned(), reason.into());
        }
        let mut call = HttpCall::post_json(
            "razorpay.create_refund",
            format!("{}/v1/payments/{id}/refund", self.base),
            self.authorization.clone(),
            &json!({
                "amount": request.amount.get(),
                // Without it the dashboard's default would decide.
                "speed": match request.speed {
                    Speed::Normal => "normal",
                    Speed::Instant => "optimum",
                },
                "receipt": request.token,
                "notes": notes,
            }),
        );
        call.headers
            .push(("X-Refund-Idempotency", request.token.clone()));
        call
    }
}

impl Gateway for Razorpay {
    /// "Create a Standard Payment Link", reference_id: up to 40 characters, so every reference of ours fits.
    fn order_id(&self, reference: &ReferenceId) -> ReferenceId {
        reference.clone()
    }

    fn check(&self, bill: &Bill, mode: PaymentMode, expires_in: i64) -> Vec<Fault> {
        let mut faults = Vec::new();
        if mode == PaymentMode::PaymentLink && expires_in < SHORTEST_EXPIRY {
            faults.push(Fault::new(
                "/expires_in",
                "too_short",
                format!(
                    "must be at least {SHORTEST_EXPIRY} seconds, Razorpay's minimum for a link"
                ),
            ));
        }
        if bill.total.get() < SMALLEST_AMOUNT {
            faults.push(Fault::new(
                "/total_amount",
                "too_small",
                format!("must be at least {SMALLEST_AMOUNT} paise, Razorpay's minimum"),
            ));
        }
        faults
    }

    fn start(&self, request: &PaymentRequest, answers: &[Answer]) -> Step<Started> {
        let mut answers = answers.iter();
        if request.maybe_exists {
            let Some(answer) = answers.next() else {
                return Step::call(self.find_links(&request.reference));
            };
            match find(answer, request) {
                Ok(Some(started)) => return Step::done(started),
                Ok(None) => {}
                Err(error) => return Step::failed(error),
            }
        }
        // A reference is taken once, so creating again after finding nothing cannot make a second link. Once is enough.
        let mut doubt = String::new();
        for _ in 0..2 {
            let Some(answer) = answers.next() else {
                return Step::call(self.create_link(request));
            };
            doubt = match created(answer, request) {
                Creation::Done(started) => return Step::done(started),
                Creation::Failed(error) => return Step::failed(error),
                Creation::Taken => {
                    let Some(answer) = answers.next() else {
                        return Step::call(self.find_links(&request.reference));
                    };
                    return match find(answer, request) {
                        Ok(Some(started)) => Step::done(started),
                        Ok(None) => unknown("the reference is taken, but no link of it is shown"),
                        Err(error) => after_doubt(error, "the reference is taken"),
                    };
                }
                Creation::Unclear(doubt) => doubt,
            };
            let Some(answer) = answers.next() else {
                return Step::call(self.find_links(&request.reference));
            };
            match find(answer, request) {
                Ok(Some(started)) => return Step::done(started),
                Ok(None) => {}
                Err(error) => return after_doubt(error, &doubt),
            }
        }
        unknown(&doubt)
    }

    fn lookup(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Found> {
        let given = answers.len();
        let mut answers = answers.iter();
        let Some(answer) = answers.next() else {
            return Step::call(match &request.gateway_id {
                Some(id) => self.fetch_link(id),
                None => self.find_links(&request.reference),
            });
        };
        let links = match links(answer, &request.reference, request.gateway_id.is_some()) {
            Ok(links) => links,
            Err(error) => return Step::failed(error),
        };
        let mut found = Found {
            reports: Vec::new(),
            closed: closed(&links),
            refunds: Vec::new(),
        };
        let mut refunded: Vec<String> = Vec::new();
        for link in &links {
            let (listed, complete) = link.payments();
            // A link does not tell what of its payments went back.
            let captured = |p: &PaymentReport| {
                (p.status == AttemptStatus::Captured).then(|| p.payment_id.clone())
            };
            // A paid link tells of every payment itself. An open one lists captured payments only, so its order is asked for
            // attempts that failed or are still under way.
            let Some(order_id) = link
                .order_id
                .as_ref()
                .filter(|_| !(link.paid() && complete))
            else {
                if link.paid() && !complete {
                    return unavailable("a paid link without a readable payment");
                }
                refunded.extend(listed.iter().filter_map(captured));
                found.reports.extend(listed);
                continue;
            };
            let Some(answer) = answers.next() else {
                return Step::call(self.order_payments(order_id));
            };
            match attempts(answer) {
                Ok((reports, given_back)) => {
                    let known =
                        |p: &PaymentReport| reports.iter().any(|r| r.payment_id == p.payment_id);
                    let missed: Vec<_> = listed.into_iter().filter(|p| !known(p)).collect();
                    refunded.extend(given_back);
                    refunded.extend(missed.iter().filter_map(captured));
                    found.reports.extend(reports);
                    found.reports.extend(missed);
                }
                Err(error) if link.paid() => return Step::failed(error),
                // Attempts that failed are nice to know; what was captured is known without them.
                Err(_) => {
                    refunded.extend(listed.iter().filter_map(captured));
                    found.reports.extend(listed);
                }
            }
        }
        for payment_id in &refunded {
            let Some(answer) = answers.next() else {
                // Bills with so many payments need a person anyway.
                if given >= MAX_CALLS {
                    break;
                }
                return Step::call(self.list_refunds(payment_id, 0));
            };
            match collection(answer).map(|items| items.iter().map(refund_report).collect()) {
                Ok(Some(reports)) => {
                    let reports: Vec<RefundReport> = reports;
                    found.refunds.extend(reports);
                }
                Ok(None) => return unavailable("a refund that cannot be read"),
                // The money that came is known all the same, and asking again would not help.
                Err(CallError::Rejected { .. }) => {}
                Err(error) => return Step::failed(error),
            }
        }
        Step::done(found)
    }

    fn cancel(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Canceled> {
        let mut answers = answers.iter();
        let id = match &request.gateway_id {
            Some(id) => id.clone(),
            None => {
                let Some(answer) = answers.next() else {
                    return Step::call(self.find_links(&request.reference));
                };
                let links = match links(answer, &request.reference, request.gateway_id.is_some()) {
                    Ok(links) => links,
                    Err(error) => return Step::failed(error),
                };
                if links.iter().any(Link::paid) {
                    return Step::done(Canceled::AlreadyPaid);
                }
                match links.iter().find(|link| link.closed().is_none()) {
                    Some(link) => link.id.clone(),
                    // Nobody was ever given a link we do not know the id of.
                    None => return Step::done(Canceled::Closed),
                }
            }
        };
        let Some(answer) = answers.next() else {
            return Step::call(self.cancel_link(&id));
        };
        let refusal = match canceled(answer) {
            Cancellation::Done(canceled) => return Step::done(canceled),
            Cancellation::Failed(error) => return Step::failed(error),
            Cancellation::Look(error) => error,
        };
        let Some(answer) = answers.next() else {
            return Step::call(self.fetch_link(&id));
        };
        match links(answer, &request.reference, request.gateway_id.is_some()) {
            Ok(links) if links.iter().any(Link::paid) => Step::done(Canceled::AlreadyPaid),
            Ok(links) if !links.is_empty() && links.iter().all(|l| l.closed().is_some()) => {
                Step::done(Canceled::Closed)
            }
            Ok(_) => Step::failed(refusal),
            Err(error) => after_doubt(error, &refusal.to_string()),
        }
    }

    /// A link is a link.
    fn pay_form(&self, _request: &PaymentRequest, _started: &Started) -> Option<PayForm> {
        None
    }

    fn check_refund(&self, request: &RefundRequest) -> Vec<Fault> {
        let mut faults = Vec::new();
        // An instant refund may be smaller and older.
        if request.speed == Speed::Normal {
            if request.amount.get() < SMALLEST_REFUND {
                faults.push(Fault::new(
                    "/amount",
                    "too_small",
                    format!(
                        "must be at least {SMALLEST_REFUND} paise, Razorpay's minimum for a refund at normal speed"
                    ),
                ));
            }
            if request.now > request.captured_at.plus_seconds(REFUNDABLE) {
                faults.push(Fault::new(
                    "/speed",
                    "too_old",
                    "the payment is more than six months old; Razorpay may still refund it at speed instant",
                ));
            }
        }
        faults
    }

    fn refund(&self, request: &RefundRequest, answers: &[Answer]) -> Step<RefundReport> {
        let mut answers = answers.iter();
        let Some(answer) = answers.next() else {
            return Step::call(self.create_refund(request));
        };
        let refused = match refunded(answer, request) {
            Refunding::Done(report) => return Step::done(report),
            Refunding::Failed(error) => return Step::failed(error),
            Refunding::Look(error) => error,
        };
        match self.find_refund(request, answers) {
            Step::Done(Ok(Some(report))) => Step::done(report),
            Step::Done(Ok(None)) => Step::failed(refused),
            Step::Done(Err(error)) => after_doubt(error, &refused.to_string()),
            Step::Call(call) => Step::Call(call),
        }
    }

    fn lookup_refund(
        &self,
        request: &RefundRequest,
        answers: &[Answer],
    ) -> Step<Option<RefundReport>> {
        let mut answers = answers.iter();
        let Some(id) = &request.gateway_refund_id else {
            return self.find_refund(request, answers);
        };
        let Some(answer) = answers.next() else {
            return Step::call(self.fetch_refund(id));
        };
        match answered(answer).map(|refund| refund_report(&refund)) {
            Ok(Some(report)) if report.payment_id == request.payment_id => Step::done(Some(report)),
            Ok(Some(_)) => Step::failed(CallError::Rejected {
                code: "refund_other_payment".to_owned(),
                reason: "the refund belongs to another payment".to_owned(),
            }),
            Ok(None) => unavailable("the answer is not a refund"),
            Err(error) => Step::failed(error),
        }
    }
}

impl Razorpay {
    /// Looks for our refund among those of its payment.
    fn find_refund<'a>(
        &self,
        request: &RefundRequest,
        mut answers: impl Iterator<Item = &'a Answer>,
    ) -> Step<Option<RefundReport>> {
        for page in 0..REFUNDS_PAGES {
            let Some(answer) = answers.next() else {
                let skip = REFUNDS_PAGE.saturating_mul(page);
                return Step::call(self.list_refunds(&request.payment_id, skip));
            };
            let items = match collection(answer) {
                Ok(items) => items,
                Err(error) => return Step::failed(error),
            };
            let ours = items
                .iter()
                .find(|refund| refund_name(refund).as_ref() == Some(&request.token));
            if let Some(refund) = ours {
                return match refund_report(refund) {
                    Some(report) => Step::done(Some(report)),
                    None => unavailable("our refund cannot be read"),
                };
            }
            if items.len() < REFUNDS_PAGE {
                return Step::done(None);
            }
        }
        unavailable("the payment has too many refunds to find one")
    }
}

impl Webhooks for Razorpay {
    fn name(&self) -> &'static str {
        "razorpay"
    }

    /// "Validate and Test Webhooks": `X-Razorpay-Signature` is the lower-case hex HMAC-SHA256 of the raw body under the webhook's
    /// secret; after a change of the secret, retries of older events still carry the old one.
    fn verify(&self, raw: RawWebhook) -> Result<VerifiedWebhook, Refused> {
        let presented = raw.header("x-razorpay-signature").ok_or(Refused::Missing)?;
        let proof = signature::hmac_sha256_hex(&self.webhook_secrets, &raw.body, presented)
            .ok_or(Refused::Mismatch)?;
        Ok(VerifiedWebhook::new(raw, proof))
    }

    fn read(&self, webhook: &VerifiedWebhook) -> Result<Vec<Signal>, Unreadable> {
        let hook = lenient::parse(webhook.body())
            .map_err(|error| Unreadable(format!("not JSON: {error}")))?;
        let event = text(&hook, "event").ok_or_else(|| Unreadable("no event name".to_owned()))?;
        let Some(told) = Told::by(&event) else {
            return ignored(format!("{} is of no consequence here", quotable(&event)));
        };
        let about = About::of(&hook);
        let Some((reference, trust)) = self.reference(&about, told) else {
            return ignored(format!("{event} names no bill of ours"));
        };
        let signal = match told {
            Told::Closed(reason) => Signal::LinkClosed { reference, reason },
            Told::Payment(status) => {
                let payment = about
                    .payment
                    .ok_or_else(|| Unreadable(format!("{event} without a payment")))?;
                let report = report(payment, status)
                    .ok_or_else(|| Unreadable(format!("{event} without id, amount or currency")))?;
                Signal::Payment {
                    reference,
                    report,
                    trust,
                }
            }
            // "Payment states": what nobody captures in time goes back by itself. It never was the bill's money.
            Told::Refund(_) if about.payment.is_some_and(never_captured) => {
                return ignored(format!("{event} of a payment that was never captured"));
            }
            Told::Refund(status) => {
                let mut report = about
                    .refund
                    .and_then(refund_report)
                    .ok_or_else(|| Unreadable(format!("{event} without a readable refund")))?;
                report.status = status.unwrap_or(report.status);
                Signal::Refund {
                    reference,
                    report,
                    trust,
                }
            }
        };
        Ok(vec![signal])
    }

    /// "Webhooks, best practices": any 2xx will do; the body is not looked at.
    fn acknowledgement(&self) -> &'static str {
        "ok"
    }

    fn challenge(&self, _raw: &RawWebhook) -> Option<String> {
        None
    }
}

/// What an event tells. The event decides; an entity's own status is a snapshot that may be older or newer.
#[derive(Debug, Clone, Copy)]
enum Told {
    Payment(AttemptStatus),
    Closed(Closed),
    /// How it ended, if the event says that it did. Otherwise the refund says where it is: the sample of `refund.created` is
    /// `processed` already.
    Refund(Option<RefundStatus>),
}

impl Told {
    fn by(event: &str) -> Option<Self> {
        Some(match event {
            "payment_link.paid"
            | "payment_link.partially_paid"
            | "payment.captured"
            | "order.paid" => Self::Payment(AttemptStatus::Captured),
            "payment.authorized" => Self::Payment(AttemptStatus::Authorized),
            "payment.failed" => Self::Payment(AttemptStatus::Failed),
            "payment_link.cancelled" => Self::Closed(Closed::Canceled),
            "payment_link.expired" => Self::Closed(Closed::Expired),
            "refund.created" | "refund.speed_changed" => Self::Refund(None),
            "refund.processed" => Self::Refund(Some(RefundStatus::Processed)),
            "refund.failed" => Self::Refund(Some(RefundStatus::Failed)),
            _ => return None,
        })
    }
}

/// The entities an event is about.
struct About<'a> {
    link: Option<&'a Value>,
    order: Option<&'a Value>,
    payment: Option<&'a Value>,
    refund: Option<&'a Value>,
}

impl<'a> About<'a> {
    fn of(hook: &'a Value) -> Self {
        let entity = |name: &str| {
            hook.pointer(&format!("/payload/{name}/entity"))
                .filter(|e| e.is_object())
        };
        Self {
            link: entity("payment_link"),
            order: entity("order"),
            payment: entity("payment"),
            refund: entity("refund"),
        }
    }
}

impl Razorpay {
    /// Which bill an event speaks of, and how sure that is. Only a link is ours alone. A note can be put on a payment by whoever
    /// starts a checkout on the same account, and a receipt may be the merchant's own number of another order: where they speak of
    /// money, the link is asked first, unless the note comes with its proof. That an attempt failed moves none.
    fn reference(&self, about: &About<'_>, told: Told) -> Option<(ReferenceId, Trust)> {
        let note = |entity: Option<&Value>| text(entity?.get("notes")?, NOTE);
        let receipt = || text(about.order.filter(|_| self.receipts_are_ours)?, "receipt");
        let of_note = match told {
            Told::Payment(AttemptStatus::Failed) => Trust::Proven,
            _ => Trust::Hint,
        };
        let (named, trust) = match about.link.and_then(|l| text(l, "reference_id")) {
            Some(named) => (named, Trust::Proven),
            // The end of a link is told by the link.
            None if matches!(told, Told::Closed(_)) => return None,
            // A refund's own note comes first: it was written with the account's key, or in its dashboard.
            None => match note(about.refund)
                .or_else(|| note(about.payment))
                .or_else(|| note(about.order))
            {
                Some(named) => (named, of_note),
                None => (receipt()?, Trust::Hint),
            },
        };
        let reference = ReferenceId::parse(named).ok()?;
        let is_refunded = |payment: &Value| {
            let of = about.refund.and_then(|refund| text(refund, "payment_id"));
            of.is_some() && of == text(payment, "id")
        };
        let trust = match told {
            Told::Payment(_) if self.proves(about, &reference) => Trust::Proven,
            // A bill whose payment nobody can be asked about has its refunds told by the same webhook, those of the dashboard too.
            Told::Refund(_)
                if about.payment.is_some_and(is_refunded) && self.proves(about, &reference) =>
            {
                Trust::Proven
            }
            _ => trust,
        };
        Some((reference, trust))
    }

    /// The payment, or its order, carries our proof for this bill and exactly this payment's amount.
    fn proves(&self, about: &About<'_>, reference: &ReferenceId) -> bool {
        let amount = about
            .payment
            .and_then(|payment| payment.get("amount")?.as_i64())
            .and_then(|amount| Paise::new(amount).ok());
        let (Some(proofs), Some(amount)) = (&self.proofs, amount) else {
            return false;
        };
        [about.payment, about.order]
            .into_iter()
            .filter_map(|entity| entity?.get("notes"))
            .filter(|notes| text(notes, NOTE).as_deref() == Some(reference.as_str()))
            .filter_map(|notes| text(notes, PROOF_NOTE))
            .any(|proof| proofs.check(reference, amount, proof.as_ref()).is_some())
    }
}

/// A payment link as Razorpay shows it.
struct Link {
    id: String,
    url: Option<String>,
    reference: Option<String>,
    status: String,
    amount: Option<i64>,
    currency: String,
    expire_by: Option<i64>,
    order_id: Option<String>,
    payments: Vec<Value>,
}

impl Link {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: text(value, "id")?,
            // Customers are sent there, so it has to be an address of the web; plain http is what a stand-in on this machine has.
            url: text(value, "short_url")
                .filter(|url| url.starts_with("https://") || url.starts_with("http://")),
            reference: text(value, "reference_id"),
            status: text(value, "status")?,
            amount: value.get("amount").and_then(Value::as_i64),
            currency: text(value, "currency").unwrap_or_else(|| "INR".to_owned()),
            // Zero stands for "none".
            expire_by: value
                .get("expire_by")
                .and_then(Value::as_i64)
                .filter(|t| *t > 0),
            order_id: text(value, "order_id").filter(|id| id.starts_with("order_")),
            payments: value
                .get("payments")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
        })
    }

    fn is_of(&self, reference: &ReferenceId) -> bool {
        self.reference.as_deref() == Some(reference.as_str())
    }

    fn paid(&self) -> bool {
        matches!(self.status.as_str(), "paid" | "partially_paid")
    }

    fn closed(&self) -> Option<Closed> {
        match self.status.as_str() {
            "cancelled" => Some(Closed::Canceled),
            "expired" => Some(Closed::Expired),
            _ => None,
        }
    }

    fn started(&self, request: &PaymentRequest) -> Option<Started> {
        Some(Started {
            id: self.id.clone(),
            link: self.url.clone()?,
            expires_at: self
                .expire_by
                .map_or(request.expires_at, Millis::from_seconds),
            extra: None,
        })
    }

    /// The captured payments a link lists ("Fetch Payment Links": amount, created_at, method, payment_id, status), and whether
    /// all of them could be read and there is at least one.
    fn payments(&self) -> (Vec<PaymentReport>, bool) {
        let reports: Vec<PaymentReport> = self
            .payments
            .iter()
            .filter_map(|payment| {
                Some(PaymentReport {
paid_in_full: None, fee: None, offer: None,
                    status: attempt_status(payment, &text(payment, "status")?),
                    payment_id: text(payment, "payment_id")?,
                    amount: Paise::new(payment.get("amount")?.as_i64()?).ok()?,
                    currency: self.currency.clone(),
                    method: text(payment, "method"),
                    error: None,
                    at: seconds(payment, "created_at"),
                })
            })
            .collect();
        let complete = !reports.is_empty() && reports.len() == self.payments.len();
        (reports, complete)
    }
}

/// All links are closed, and there is one. The last word of several is "expired": it needs nobody's hand.
fn closed(links: &[Link]) -> Option<Closed> {
    let reasons: Option<Vec<Closed>> = links.iter().map(Link::closed).collect();
    reasons?.into_iter().next()
}

enum Creation {
    Done(Started),
    Failed(CallError),
    /// There is a link of this reference already.
    Taken,
    /// It may or may not have been made.
    Unclear(String),
}

fn created(answer: &Answer, request: &PaymentRequest) -> Creation {
    let reply = match answer {
        Answer::NotSent(reason) => {
            return Creation::Failed(CallError::Unavailable {
                reason: quotable(reason),
                retry_after: None,
            });
        }
        Answer::Lost(reason) => return Creation::Unclear(quotable(reason)),
        Answer::Reply(reply) => reply,
    };
    if reply.ok() {
        let link = reply.json().as_ref().and_then(Link::read);
        let fits = |link: &Link| {
            link.is_of(&request.reference) && link.amount == Some(request.amount.get())
        };
        return match link.filter(fits).and_then(|link| link.started(request)) {
            Some(started) => Creation::Done(started),
            None => Creation::Unclear("the new link could not be read".to_owned()),
        };
    }
    match refusal(reply) {
        // Documented as "payment link creation with reference ID already attempted"; in the field it reads "payment link with given
        // reference_id: … already exists" (seen 2026-08).
        CallError::Rejected { reason, .. }
            if says(&reason, "reference") && says(&reason, "already") =>
        {
            Creation::Taken
        }
        CallError::Unknown { reason } => Creation::Unclear(reason),
        error => Creation::Failed(error),
    }
}

/// Looks for a link that can be used instead of a new one. A link of this reference that cannot be used is an error.
fn find(answer: &Answer, request: &PaymentRequest) -> Result<Option<Started>, CallError> {
    let links = links(answer, &request.reference, false)?;
    let usable = links.iter().find(|link| {
        link.status == "created"
            && link.currency == "INR"
            && link.amount == Some(request.amount.get())
    });
    if let Some(link) = usable {
        return match link.started(request) {
            Some(started) => Ok(Some(started)),
            None => Err(CallError::Unknown {
                reason: "the link found has no address".to_owned(),
            }),
        };
    }
    let Some(link) = links.first() else {
        return Ok(None);
    };
    let (code, reason) = match link.status.as_str() {
        "created" => (
            "link_other_amount",
            "a link of this reference asks for another amount",
        ),
        "paid" | "partially_paid" => ("link_paid", "a link of this reference is paid already"),
        "cancelled" => ("link_canceled", "the link of this reference was canceled"),
        "expired" => ("link_expired", "the link of this reference has expired"),
        _ => (
            "link_unusable",
            "the link of this reference is in an unknown state",
        ),
    };
    Err(CallError::Rejected {
        code: code.to_owned(),
        reason: reason.to_owned(),
    })
}

/// Reads one link or a list of links; keeps those of the wanted reference. Asking is harmless, so every failure to do so may be
/// repeated.
fn links(answer: &Answer, reference: &ReferenceId, by_id: bool) -> Result<Vec<Link>, CallError> {
    let document = answered(answer)?;
    let unreadable = || CallError::Unavailable {
        reason: "the answer is not a payment link".to_owned(),
        retry_after: None,
    };
    // The documents do not print the list; its envelope in the field is `payment_links`, unlike `items` elsewhere.
    let links = match document.get("payment_links").and_then(Value::as_array) {
        Some(list) => list
            .iter()
            .map(Link::read)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(unreadable)?,
        None => vec![Link::read(&document).ok_or_else(unreadable)?],
    };
    let all = links.len();
    let ours: Vec<Link> = links
        .into_iter()
        .filter(|link| link.is_of(reference))
        .collect();
    if by_id && ours.len() < all {
        return Err(CallError::Rejected {
            code: "link_other_reference".to_owned(),
            reason: "the link belongs to another reference".to_owned(),
        });
    }
    Ok(ours)
}

/// Payments of an order, and the ids of those of which something went back.
fn attempts(answer: &Answer) -> Result<(Vec<PaymentReport>, Vec<String>), CallError> {
    let items = collection(answer)?;
    let reports: Option<Vec<PaymentReport>> = items
        .iter()
        .map(|payment| report(payment, attempt_status(payment, &text(payment, "status")?)))
        .collect();
    let reports = reports.ok_or_else(|| CallError::Unavailable {
        reason: "the answer is not a list of payments".to_owned(),
        retry_after: None,
    })?;
    let refunded = items
        .iter()
        .filter(|payment| gave_back(payment))
        .filter_map(|payment| text(payment, "id"))
        .collect();
    Ok((reports, refunded))
}

/// "Payments", entity: `amount_refunded` in paise, `refund_status` null, partial or full. What was never captured is no refund.
fn gave_back(payment: &Value) -> bool {
    let some = payment
        .get("amount_refunded")
        .and_then(Value::as_i64)
        .is_some_and(|amount| amount > 0);
    (some || text(payment, "refund_status").is_some()) && !never_captured(payment)
}

/// A list as Razorpay shows it: `{"entity": "collection", "count": 2, "items": […]}`.
fn collection(answer: &Answer) -> Result<Vec<Value>, CallError> {
    match answered(answer)?.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(CallError::Unavailable {
            reason: "the answer is not a list".to_owned(),
            retry_after: None,
        }),
    }
}

enum Refunding {
    Done(RefundReport),
    Failed(CallError),
    /// A refusal that an earlier request of ours may have caused: look for it; if there is none, this is the error.
    Look(CallError),
}

fn refunded(answer: &Answer, request: &RefundRequest) -> Refunding {
    let unknown = |reason: &str| {
        Refunding::Failed(CallError::Unknown {
            reason: quotable(reason),
        })
    };
    let reply = match answer {
        Answer::NotSent(reason) => {
            return Refunding::Failed(CallError::Unavailable {
                reason: quotable(reason),
                retry_after: None,
            });
        }
        Answer::Lost(reason) => return unknown(reason),
        Answer::Reply(reply) => reply,
    };
    if reply.ok() {
        let report = reply.json().as_ref().and_then(refund_report);
        let fits = |report: &RefundReport| {
            report.payment_id == request.payment_id && report.amount == request.amount
        };
        return match report.filter(fits) {
            Some(report) => Refunding::Done(RefundReport {
                // Whatever the answer repeats: it answers our own key.
                name: Some(request.token.clone()),
                ..report
            }),
            None => unknown("the new refund could not be read"),
        };
    }
    let error = refusal(reply);
    let (CallError::Rejected { reason, .. } | CallError::Unknown { reason }) = &error else {
        return Refunding::Failed(error);
    };
    // "Create a Normal Refund (Idempotent Request)" gives 409 for it in one place, BAD_REQUEST in another. Something was done under
    // this key, so it is looked for before anything else.
    if says(reason, "different request with the same idempotency key") {
        return Refunding::Look(CallError::Unknown {
            reason: reason.clone(),
        });
    }
    // The same page: 409 while the first request is "still being processed. You may retry the request".
    if reply.status == 409 {
        return Refunding::Failed(CallError::Unavailable {
            reason: reason.clone(),
            retry_after: reply.retry_after,
        });
    }
    let rejected = |code: &str| CallError::Rejected {
        code: code.to_owned(),
        reason: reason.clone(),
    };
    // What is short of balance today works another day, under the same key.
    if let (CallError::Rejected { .. }, Some(obstacle)) = (&error, not_now(reply, reason)) {
        return Refunding::Failed(CallError::NotNow {
            obstacle,
            reason: reason.clone(),
        });
    }
    if reply.status != 400 {
        return Refunding::Failed(error);
    }
    if says(reason, "greater than amount captured") {
        Refunding::Look(rejected("refund_too_large"))
    } else if says(reason, "fully refunded already") {
        Refunding::Look(rejected("refund_complete"))
    } else if says(reason, "must be at least inr") {
        Refunding::Failed(rejected("refund_too_small"))
    } else if says(reason, "more than 6 months old") {
        Refunding::Failed(rejected("refund_too_old"))
    } else if says(reason, "is not a valid id") || says(reason, "does not exist") {
        Refunding::Failed(rejected("refund_no_payment"))
    } else {
        Refunding::Failed(error)
    }
}

/// Merchants report two answers for a balance that does not cover the refund: "Your account does not have enough balance to carry out
/// the refund operation.", and now and then no more than "invalid request sent". Both worked a day later.
fn not_now(reply: &HttpReply, reason: &str) -> Option<Obstacle> {
    let error = reply.json().and_then(|mut body| body.get_mut("error").map(Value::take));
    let told = |name: &str| error.as_ref().and_then(|error| text(error, name));
    let by_reason = || told("reason").as_deref().and_then(Obstacle::told_by);
    // With a field or a reason of its own it says which part of the request is invalid.
    let says_nothing = || {
        let bare = reason
            .trim_end_matches('.')
            .trim()
            .to_ascii_lowercase();
        matches!(bare.as_str(), "invalid request" | "invalid request sent")
            && told("field").is_none()
    };
    Obstacle::told_by(reason)
        .or_else(by_reason)
        .or_else(|| says_nothing().then_some(Obstacle::InsufficientBalance))
}

/// A refund entity as a report ("Refunds", entity: `amount` in paise, `created_at` in seconds). Why one failed is not said.
fn refund_report(refund: &Value) -> Option<RefundReport> {
    // What we collect is rupees; a refund of anything else is not of a payment of ours.
    if text(refund, "currency").is_some_and(|currency| currency != "INR") {
        return None;
    }
    let bank = |name: &str| text(refund.get("acquirer_data")?, name);
    Some(RefundReport {
        status: match text(refund, "status")?.as_str() {
            "processed" => RefundStatus::Processed,
            "failed" => RefundStatus::Failed,
            _ => RefundStatus::Pending,
        },
        id: Some(text(refund, "id")?),
        name: refund_name(refund),
        payment_id: text(refund, "payment_id")?,
        amount: Paise::new(refund.get("amount")?.as_i64()?).ok()?,
        speed: text(refund, "speed_processed").and_then(|speed| match speed.as_str() {
            "instant" => Some(Speed::Instant),
            "normal" => Some(Speed::Normal),
            _ => None,
        }),
        // "either RRN, ARN or UTR".
        bank_reference: ["arn", "rrn", "utr"].iter().find_map(|name| bank(name)),
        error: None,
        at: seconds(refund, "created_at"),
    })
}

/// Which refund of the shop it is. One made in the dashboard has a receipt of the merchant's own, or none; its id is then a name that
/// no refund of ours has, so that it is never taken for one of ours of the same amount.
fn refund_name(refund: &Value) -> Option<String> {
    let note = refund.get("notes").and_then(|n| text(n, REFUND_NOTE));
    note.or_else(|| text(refund, "receipt"))
        .or_else(|| text(refund, "id"))
}

/// The document a harmless question was answered with.
fn answered(answer: &Answer) -> Result<Value, CallError> {
    let unavailable = |reason: &str| CallError::Unavailable {
        reason: quotable(reason),
        retry_after: None,
    };
    match answer {
        Answer::NotSent(reason) | Answer::Lost(reason) => Err(unavailable(reason)),
        Answer::Reply(reply) if reply.ok() => reply
            .json()
            .ok_or_else(|| unavailable("the answer is not JSON")),
        Answer::Reply(reply) => Err(match refusal(reply) {
            CallError::Unknown { reason } => unavailable(&reason),
            error => error,
        }),
    }
}

enum Cancellation {
    Done(Canceled),
    Failed(CallError),
    /// Look what became of the link; if it is still open, this is the error.
    Look(CallError),
}

fn canceled(answer: &Answer) -> Cancellation {
    let again = |reason: &str| CallError::Unavailable {
        reason: quotable(reason),
        retry_after: None,
    };
    let reply = match answer {
        Answer::NotSent(reason) => return Cancellation::Failed(again(reason)),
        Answer::Lost(reason) => return Cancellation::Look(again(reason)),
        Answer::Reply(reply) => reply,
    };
    if reply.ok() {
        return match reply.json().as_ref().and_then(Link::read) {
            Some(link) if link.closed().is_some() => Cancellation::Done(Canceled::Closed),
            _ => Cancellation::Look(again("the cancellation was not confirmed")),
        };
    }
    match refusal(reply) {
        CallError::Unknown { reason } => Cancellation::Look(again(&reason)),
        CallError::Rejected { code, .. } if code == CREDENTIALS => {
            Cancellation::Failed(refusal(reply))
        }
        // "Cancel a Standard Payment Link", errors: "cannot cancel or expire an already paid/partially paid link".
        CallError::Rejected { reason, .. } if says(&reason, "already paid") => {
            Cancellation::Done(Canceled::AlreadyPaid)
        }
        // The same page: "cannot cancel or expire an expired link" covers expired and cancelled ones.
        CallError::Rejected { reason, .. } if says(&reason, "an expired link") => {
            Cancellation::Done(Canceled::Closed)
        }
        error @ CallError::Rejected { .. } => Cancellation::Look(error),
        error => Cancellation::Failed(error),
    }
}

/// Our code for refused keys, whatever the vendor calls it.
const CREDENTIALS: &str = "gateway_credentials";

/// What a reply that is not a success means. `Unknown` stands for "it may have acted".
fn refusal(reply: &HttpReply) -> CallError {
    let document = reply.json();
    let error = document.as_ref().and_then(|d| d.get("error"));
    let said = |name: &str| error.and_then(|e| text(e, name));
    let reason =
        quotable(&said("description").unwrap_or_else(|| format!("HTTP status {}", reply.status)));
    match reply.status {
        // "Understand Razorpay APIs", rate limits: 429, nothing was done; no Retry-After is promised. Its body has the same code
        // as a bad request, so the status decides.
        429 => CallError::Unavailable {
            reason,
            retry_after: reply.retry_after,
        },
        401 => CallError::Rejected {
            code: CREDENTIALS.to_owned(),
            reason,
        },
        // The documents give "4xx" for "The api {key/secret} provided is invalid".
        400..=499 if says(&reason, "provided is invalid") && says(&reason, "api") => {
            CallError::Rejected {
                code: CREDENTIALS.to_owned(),
                reason,
            }
        }
        408 => CallError::Unknown { reason },
        400..=499 => CallError::Rejected {
            code: said("code")
                .map_or_else(|| format!("http_{}", reply.status), |code| quotable(&code)),
            reason,
        },
        _ => CallError::Unknown { reason },
    }
}

/// A payment entity as a report ("Payments", entity: `amount` in paise, `created_at` in seconds).
fn report(payment: &Value, status: AttemptStatus) -> Option<PaymentReport> {
    let failed = status == AttemptStatus::Failed;
    let why = || {
        ["error_reason", "error_code"]
            .iter()
            .filter_map(|name| text(payment, name))
            // The documents use "NA" for "no reason known".
            .find(|reason| reason != "NA")
    };
    Some(PaymentReport {
paid_in_full: None, fee: None, offer: None,
        status,
        payment_id: text(payment, "id")?,
        amount: Paise::new(payment.get("amount")?.as_i64()?).ok()?,
        currency: text(payment, "currency")?,
        method: text(payment, "method"),
        error: if failed {
            why().map(|reason| quotable(&reason))
        } else {
            None
        },
        at: seconds(payment, "created_at"),
    })
}

/// "Payments", life cycle: created, authorized, captured, refunded, failed. What is refunded was captured before, unless the payment
/// itself says that it never was: an authorised payment that nobody captures is given back after some days.
fn attempt_status(payment: &Value, status: &str) -> AttemptStatus {
    match status {
        "refunded" if never_captured(payment) => AttemptStatus::Failed,
        "captured" | "refunded" => AttemptStatus::Captured,
        "authorized" => AttemptStatus::Authorized,
        "failed" => AttemptStatus::Failed,
        _ => AttemptStatus::Pending,
    }
}

/// "Refunds Webhook Events" are sent for payments that nobody captured, too.
fn never_captured(payment: &Value) -> bool {
    payment.get("captured").and_then(Value::as_bool) == Some(false)
}

fn ignored(text: String) -> Result<Vec<Signal>, Unreadable> {
    Ok(vec![Signal::Ignored(text)])
}

fn unknown<T>(reason: &str) -> Step<T> {
    Step::failed(CallError::Unknown {
        reason: reason.to_owned(),
    })
}

fn unavailable<T>(reason: &str) -> Step<T> {
    Step::failed(CallError::Unavailable {
        reason: reason.to_owned(),
        retry_after: None,
    })
}

/// Looking failed after something may have happened: a clear refusal stays one, everything else leaves the doubt.
fn after_doubt<T>(error: CallError, doubt: &str) -> Step<T> {
    match error {
        CallError::Rejected { .. } => Step::failed(error),
        error => unknown(&format!("{doubt}; then {error}")),
    }
}

fn says(reason: &str, words: &str) -> bool {
    reason.to_ascii_lowercase().contains(words)
}

fn text(value: &Value, name: &str) -> Option<String> {
    value
        .get(name)?
        .as_str()
        .filter(|t| !t.is_empty())
        .map(str::to_owned)
}

fn seconds(value: &Value, name: &str) -> Option<Millis> {
    value
        .get(name)?
        .as_i64()
        .filter(|t| *t > 0)
        .map(Millis::from_seconds)
}
