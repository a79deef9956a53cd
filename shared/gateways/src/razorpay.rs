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
//! - "Razorpay sends every event of the account to every configured URL", whoever made the link: another merchant on the same
//!   account, or somebody in the dashboard. So a link's `reference_id` says nothing about whose it is. Ours carry the note
//!   [`MARK_NOTE`], which names tenant and order and only we can make: an event about a link that carries it is proven. Without it
//!   the link's id is what counts, and the order knows which one it was given. Nothing else of a link is ours: it is not adopted
//!   when we create again, and its payments are not reported by a lookup.
//! - Somebody else's link may hold our reference, which is taken once for an account. Then ours is made under a second name, the
//!   reference with four letters behind it that belong to the tenant.
//! - Webhooks name the bill in three ways: a link's `reference_id`, a note of ours, and the `receipt` of the order the link makes.
//!   The documents do not say that a link's notes reach its payments, but their samples do: in `payment_link.paid (UPI)` the same
//!   note stands on link, order and payment, and where the link has none the others have none. Bare `payment.*` events have
//!   neither link nor receipt, so the note [`NOTE`] is what finds their bill; without it they are nobody's and `payment_link.paid`
//!   or the lookup tells of the money. Whoever starts a checkout can write notes, so they are hints.
//! - A payment made inside WhatsApp has no link. Where the messaging provider cannot be asked either (Exotel), it puts a proof next to
//!   the note, and a signed event that carries it back names the bill for certain, whatever the tenant's mode is by then.
//! - `captured: true` is not believed: the documents print a failed card payment with it. `captured: false` is: it is how the refund
//!   of a payment that nobody ever captured differs from one of ours.
//! - A payment's amount may be another than the link's: a fee that the customer bears is in it, an offer is taken off. The link keeps its
//!   own, so whether a bill is paid is for the link's or order's status to say, and why the sums differ for the payment.
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
use chatbill_domain::proof::{BillProofs, Whose};
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
/// Our mark on every link: [`BillProofs::named_mark`].
const MARK_NOTE: &str = "chatbill_mark";
/// "Create a Standard Payment Link", reference_id: up to 40 characters; ours have at most 35.
const LONGEST_REFERENCE: usize = 40;
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
    proofs: BillProofs,
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
        // Everything of Razorpay's is signed; its address may have the token all the same.
        let callback_token = tenant::callback_token(f);
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
        callback_token?;
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
                proofs: settings.proofs.clone(),
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

    fn find_links(&self, name: &str) -> HttpCall {
        let reference = utf8_percent_encode(name, STRICT);
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

    fn create_link(&self, name: &str, request: &PaymentRequest) -> HttpCall {
        // Ours win over a merchant's note of the same name, because they decide whose a payment is. The mark always has its place;
        // the link's own reference does for the other one.
        let mark = self.proofs.named_mark(&request.reference);
        let mut notes: Map<String, Value> = request
            .notes
            .iter()
            .filter(|(key, _)| key != MARK_NOTE)
            .take(MOST_NOTES.saturating_sub(usize::from(mark.is_some())))
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        if let Some(mark) = mark {
            notes.insert(MARK_NOTE.to_owned(), Value::from(mark));
        }
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
            "reference_id": name,
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
        for name in self.names(&request.reference) {
            if let Some(step) = self.start_as(&name, request, &mut answers) {
                return step;
            }
        }
        Step::failed(CallError::Rejected {
            code: "reference_taken".to_owned(),
            reason: "other links of this account hold the bill's reference".to_owned(),
        })
    }

    fn lookup(&self, request: &LookupRequest, answers: &[Answer]) -> Step<Found> {
        if request.mode == PaymentMode::PaymentGateway {
            return Step::failed(CallError::Unsupported(
                "razorpay documents no search for payments made inside WhatsApp",
            ));
        }
        let given = answers.len();
        let mut answers = answers.iter();
        let links = match self.our_links(request, &mut answers) {
            Looking::Done(links) => links,
            Looking::Call(call) => return Step::call(call),
            Looking::Failed(error) => return Step::failed(error),
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
            // A paid link tells of every payment itself, unless one took another sum: why stands only in the payment, with its fee and
            // offer. An open link lists captured payments only, so its order is asked for attempts that failed or are still under way.
            let is_told = link.paid() && complete;
            let is_plain = !listed.iter().any(|p| {
                p.status == AttemptStatus::Captured && link.amount != Some(p.amount.get())
            });
            let Some(order_id) = link.order_id.as_ref().filter(|_| !(is_told && is_plain)) else {
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
            match attempts(answer, link) {
                Ok((reports, given_back)) => {
                    let known =
                        |p: &PaymentReport| reports.iter().any(|r| r.payment_id == p.payment_id);
                    let missed: Vec<_> = listed.into_iter().filter(|p| !known(p)).collect();
                    refunded.extend(given_back);
                    refunded.extend(missed.iter().filter_map(captured));
                    found.reports.extend(reports);
                    found.reports.extend(missed);
                }
                // Without the reason the link's own word has to do.
                Err(error)
                    if link.paid() && !(is_told && matches!(error, CallError::Rejected { .. })) =>
                {
                    return Step::failed(error);
                }
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
                let links = match self.our_links(request, &mut answers) {
                    Looking::Done(links) => links,
                    Looking::Call(call) => return Step::call(call),
                    Looking::Failed(error) => return Step::failed(error),
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
        match fetched(answer, &id) {
            Ok(link) if link.paid() => Step::done(Canceled::AlreadyPaid),
            Ok(link) if link.closed().is_some() => Step::done(Canceled::Closed),
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

/// How far a search for our links has come.
enum Looking {
    Call(HttpCall),
    Failed(CallError),
    Done(Vec<Link>),
}

impl Razorpay {
    /// The references our link can have: the order's own, or the second name.
    fn names(&self, reference: &ReferenceId) -> Vec<String> {
        let second = self.proofs.second_names(reference).into_iter().next();
        std::iter::once(reference.to_string())
            .chain(second)
            .filter(|name| name.len() <= LONGEST_REFERENCE)
            .collect()
    }

    /// The link carries our mark of this order.
    fn is_marked(&self, link: &Link, reference: &ReferenceId) -> bool {
        let mark = link.mark.as_deref();
        mark.is_some_and(|mark| matches!(self.proofs.whose(reference, mark), Whose::Ours(_)))
    }

    /// The order's own link by its id. Where that is not known, those links that carry our mark.
    fn our_links<'a>(
        &self,
        request: &LookupRequest,
        answers: &mut impl Iterator<Item = &'a Answer>,
    ) -> Looking {
        if let Some(id) = &request.gateway_id {
            let Some(answer) = answers.next() else {
                return Looking::Call(self.fetch_link(id));
            };
            return match fetched(answer, id) {
                Ok(link) => Looking::Done(vec![link]),
                Err(error) => Looking::Failed(error),
            };
        }
        let mut found = Vec::new();
        for name in self.names(&request.reference) {
            let Some(answer) = answers.next() else {
                return Looking::Call(self.find_links(&name));
            };
            let links = match links(answer, &name) {
                Ok(links) => links,
                Err(error) => return Looking::Failed(error),
            };
            let all = links.len();
            found.extend(
                links
                    .into_iter()
                    .filter(|link| self.is_marked(link, &request.reference)),
            );
            // There is a second name only where somebody else holds the first one.
            if !found.is_empty() || all == 0 {
                break;
            }
        }
        Looking::Done(found)
    }

    /// Makes the link under this name, or finds the one an earlier try made. `None`: the name is somebody else's.
    fn start_as<'a>(
        &self,
        name: &str,
        request: &PaymentRequest,
        answers: &mut impl Iterator<Item = &'a Answer>,
    ) -> Option<Step<Started>> {
        if request.maybe_exists {
            let Some(answer) = answers.next() else {
                return Some(Step::call(self.find_links(name)));
            };
            match self.find(answer, name, request) {
                Ok(Search::Ours(started)) => return Some(Step::done(started)),
                Ok(Search::Others) => return None,
                Ok(Search::Nothing) => {}
                Err(error) => return Some(Step::failed(error)),
            }
        }
        // A reference is taken once, so creating again after finding nothing cannot make a second link. Once is enough.
        let mut doubt = String::new();
        for _ in 0..2 {
            let Some(answer) = answers.next() else {
                return Some(Step::call(self.create_link(name, request)));
            };
            let taken = match created(answer, name, request) {
                Creation::Done(started) => return Some(Step::done(started)),
                Creation::Failed(error) => return Some(Step::failed(error)),
                Creation::Taken => {
                    "the reference is taken".clone_into(&mut doubt);
                    true
                }
                Creation::Unclear(why) => {
                    doubt = why;
                    false
                }
            };
            let Some(answer) = answers.next() else {
                return Some(Step::call(self.find_links(name)));
            };
            match self.find(answer, name, request) {
                Ok(Search::Ours(started)) => return Some(Step::done(started)),
                Ok(Search::Others) => return None,
                Ok(Search::Nothing) if taken => {
                    return Some(unknown(
                        "the reference is taken, but no link of it is shown",
                    ));
                }
                Ok(Search::Nothing) => {}
                Err(error) => return Some(after_doubt(error, &doubt)),
            }
        }
        Some(unknown(&doubt))
    }

    /// Looks for a link of ours that can be used instead of a new one. One that cannot be used is an error.
    fn find(
        &self,
        answer: &Answer,
        name: &str,
        request: &PaymentRequest,
    ) -> Result<Search, CallError> {
        let links = links(answer, name)?;
        if links.is_empty() {
            return Ok(Search::Nothing);
        }
        let ours: Vec<Link> = links
            .into_iter()
            .filter(|link| self.is_marked(link, &request.reference))
            .collect();
        let usable = ours.iter().find(|link| {
            link.status == "created"
                && link.currency == "INR"
                && link.amount == Some(request.amount.get())
        });
        if let Some(link) = usable {
            return match link.started(request) {
                Some(started) => Ok(Search::Ours(started)),
                None => Err(CallError::Unknown {
                    reason: "the link found has no address".to_owned(),
                }),
            };
        }
        match ours.first() {
            Some(link) => Err(unusable(link)),
            None => Ok(Search::Others),
        }
    }

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
            return Ok(vec![Signal::Foreign(format!(
                "{event} names no bill of this tenant"
            ))]);
        };
        let signal = match told {
            Told::Closed(reason) => Signal::LinkClosed {
                reference,
                reason,
                trust,
            },
            Told::Payment(status) => {
                let payment = about
                    .payment
                    .ok_or_else(|| Unreadable(format!("{event} without a payment")))?;
                let report = report(payment, status)
                    .ok_or_else(|| Unreadable(format!("{event} without id, amount or currency")))?;
                Signal::Payment {
                    reference,
                    report: about.explained(report, payment),
                    trust,
                }
            }
            // "Payment states": what nobody captures in time goes back by itself. It never was the bill's money, and the attempt is
            // over.
            Told::Refund(_) if about.payment.is_some_and(never_captured) => {
                let over = about
                    .payment
                    .and_then(|payment| report(payment, AttemptStatus::Failed));
                match over {
                    Some(report) if !matches!(told, Told::Refund(Some(RefundStatus::Failed))) => {
                        Signal::Payment {
                            reference,
                            report,
                            trust,
                        }
                    }
                    _ => {
                        return ignored(format!("{event} of a payment that was never captured"));
                    }
                }
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

    /// The payment's report with what the event's link or order says about its sum.
    fn explained(&self, report: PaymentReport, payment: &Value) -> PaymentReport {
        let asked = self
            .link
            .and_then(Asked::read)
            .or_else(|| self.order.and_then(Asked::read));
        explained(report, payment, self.order, asked.as_ref())
    }
}

impl Razorpay {
    /// Which bill an event speaks of, and how sure that is; `None` when it is somebody else's.
    fn reference(&self, about: &About<'_>, told: Told) -> Option<(ReferenceId, Trust)> {
        if let Some(link) = about.link {
            return self.of_link(link);
        }
        // The end of a link is told by the link.
        if matches!(told, Told::Closed(_)) {
            return None;
        }
        let note = |entity: Option<&Value>| text(entity?.get("notes")?, NOTE);
        let receipt = || text(about.order.filter(|_| self.receipts_are_ours)?, "receipt");
        // A refund's own note comes first: it was written with the account's key, or in its dashboard.
        let named = note(about.refund)
            .or_else(|| note(about.payment))
            .or_else(|| note(about.order))
            .or_else(receipt)?;
        let reference = ReferenceId::parse(named).ok()?;
        let is_refunded = |payment: &Value| {
            let of = about.refund.and_then(|refund| text(refund, "payment_id"));
            of.is_some() && of == text(payment, "id")
        };
        let may_be_proven = match told {
            Told::Payment(_) => true,
            // A bill whose payment nobody can be asked about has its refunds told by the same webhook, those of the dashboard too.
            Told::Refund(_) => about.payment.is_some_and(is_refunded),
            Told::Closed(_) => false,
        };
        if may_be_proven && self.proves(about, &reference) {
            return Some((reference, Trust::Proven));
        }
        // A link's notes are on its payments. Anybody who starts a checkout can put them there, so a mark of ours makes no money of
        // it; but a mark of another tenant says whose it is. That an attempt failed moves no money, and an open link does not show it.
        let marks = [about.refund, about.payment, about.order]
            .into_iter()
            .filter_map(|entity| text(entity?.get("notes")?, MARK_NOTE))
            .map(|mark| self.proofs.whose(&reference, &mark));
        let mut trust = Trust::Hint;
        for whose in marks {
            match whose {
                Whose::Others => return None,
                Whose::Ours(_) if matches!(told, Told::Payment(AttemptStatus::Failed)) => {
                    trust = Trust::Proven;
                }
                Whose::Ours(_) | Whose::Nobodys => {}
            }
        }
        Some((reference, trust))
    }

    /// Which bill a link is for. One that carries our mark is ours; of any other the order knows whether it was given its id.
    fn of_link(&self, link: &Value) -> Option<(ReferenceId, Trust)> {
        let notes = link.get("notes");
        let noted = notes
            .and_then(|notes| text(notes, NOTE))
            .and_then(|name| ReferenceId::parse(name).ok());
        let named = text(link, "reference_id").and_then(|name| self.first_name(&name));
        if let Some(mark) = notes.and_then(|notes| text(notes, MARK_NOTE)) {
            for reference in [&noted, &named].into_iter().flatten() {
                match self.proofs.whose(reference, &mark) {
                    Whose::Ours(_) => return Some((reference.clone(), Trust::Proven)),
                    Whose::Others => return None,
                    Whose::Nobodys => {}
                }
            }
        }
        let reference = named.or(noted)?;
        let trust = text(link, "id").map_or(Trust::Hint, Trust::OwnLink);
        Some((reference, trust))
    }

    /// The order's reference behind the reference of a link.
    fn first_name(&self, name: &str) -> Option<ReferenceId> {
        let first = name
            .rsplit_once('-')
            .and_then(|(first, _)| ReferenceId::parse(first).ok())
            .filter(|first| self.proofs.second_names(first).iter().any(|n| n == name));
        first.or_else(|| ReferenceId::parse(name).ok())
    }

    /// The payment, or its order, carries our proof for this bill and its amount. What the customer paid can be more by the gateway's
    /// fee ("Payments", `fee`: in paise, with tax) or less by its offer; the order has the amount that was asked for.
    fn proves(&self, about: &About<'_>, reference: &ReferenceId) -> bool {
        let paise = |entity: Option<&Value>, name: &str| entity?.get(name)?.as_i64();
        let paid = paise(about.payment, "amount");
        let without_fee = paid
            .zip(paise(about.payment, "fee"))
            .and_then(|(paid, fee)| paid.checked_sub(fee));
        let amounts: Vec<Paise> = [paid, without_fee, paise(about.order, "amount")]
            .into_iter()
            .flatten()
            .filter_map(|amount| Paise::new(amount).ok())
            .collect();
        [about.payment, about.order]
            .into_iter()
            .filter_map(|entity| entity?.get("notes"))
            .filter(|notes| text(notes, NOTE).as_deref() == Some(reference.as_str()))
            .filter_map(|notes| text(notes, PROOF_NOTE))
            .any(|proof| {
                amounts
                    .iter()
                    .any(|amount| self.proofs.check(reference, *amount, &proof).is_some())
            })
    }
}

/// A payment link as Razorpay shows it.
struct Link {
    id: String,
    url: Option<String>,
    reference: Option<String>,
    mark: Option<String>,
    status: String,
    amount: Option<i64>,
    asked: Option<Asked>,
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
            mark: value.get("notes").and_then(|notes| text(notes, MARK_NOTE)),
            status: text(value, "status")?,
            amount: value.get("amount").and_then(Value::as_i64),
            asked: Asked::read(value),
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

    fn is_of(&self, name: &str) -> bool {
        self.reference.as_deref() == Some(name)
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
                let report = PaymentReport {
                    paid_in_full: None,
                    fee: None,
                    offer: None,
                    status: attempt_status(payment, &text(payment, "status")?),
                    payment_id: text(payment, "payment_id")?,
                    amount: Paise::new(payment.get("amount")?.as_i64()?).ok()?,
                    currency: self.currency.clone(),
                    method: text(payment, "method"),
                    error: None,
                    at: seconds(payment, "created_at"),
                };
                Some(explained(report, payment, None, self.asked.as_ref()))
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

fn created(answer: &Answer, name: &str, request: &PaymentRequest) -> Creation {
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
        let fits = |link: &Link| link.is_of(name) && link.amount == Some(request.amount.get());
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

/// What is there under a name.
enum Search {
    /// Our link, open and of the right amount.
    Ours(Started),
    /// Somebody else's.
    Others,
    Nothing,
}

fn unusable(link: &Link) -> CallError {
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
    CallError::Rejected {
        code: code.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Reads the link with this id.
fn fetched(answer: &Answer, id: &str) -> Result<Link, CallError> {
    let link = Link::read(&answered(answer)?).ok_or_else(|| CallError::Unavailable {
        reason: "the answer is not a payment link".to_owned(),
        retry_after: None,
    })?;
    if link.id == id {
        Ok(link)
    } else {
        Err(CallError::Rejected {
            code: "link_other_id".to_owned(),
            reason: "the answer is about another link".to_owned(),
        })
    }
}

/// Reads one link or a list of links; keeps those of the wanted reference. Asking is harmless, so every failure to do so may be
/// repeated.
fn links(answer: &Answer, name: &str) -> Result<Vec<Link>, CallError> {
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
    Ok(links.into_iter().filter(|link| link.is_of(name)).collect())
}

/// Payments of a link's order, and the ids of those of which something went back.
fn attempts(answer: &Answer, link: &Link) -> Result<(Vec<PaymentReport>, Vec<String>), CallError> {
    let items = collection(answer)?;
    let reports: Option<Vec<PaymentReport>> = items
        .iter()
        .map(|payment| {
            let report = report(payment, attempt_status(payment, &text(payment, "status")?))?;
            Some(explained(report, payment, None, link.asked.as_ref()))
        })
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
    let error = reply
        .json()
        .and_then(|mut body| body.get_mut("error").map(Value::take));
    let told = |name: &str| error.as_ref().and_then(|error| text(error, name));
    let by_reason = || told("reason").as_deref().and_then(Obstacle::told_by);
    // With a field or a reason of its own it says which part of the request is invalid.
    let says_nothing = || {
        let bare = reason.trim_end_matches('.').trim().to_ascii_lowercase();
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
        paid_in_full: None,
        fee: None,
        offer: None,
        status,
        payment_id: text(payment, "id")?,
        amount: paise(payment, "amount")?,
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

/// What a link or an order asked for that Razorpay calls paid.
#[derive(Debug, Clone, Copy)]
struct Asked {
    amount: Paise,
    /// `amount_paid` says that exactly this was paid.
    is_covered: bool,
}

impl Asked {
    /// "Payment Links" and "Orders", entities: `status` is "paid" when all of `amount` is; `partially_paid` links are another status.
    fn read(entity: &Value) -> Option<Self> {
        let amount = paise(entity, "amount")?;
        (text(entity, "status")? == "paid").then(|| Self {
            amount,
            is_covered: paise(entity, "amount_paid") == Some(amount),
        })
    }
}

/// "Payments", entity: `fee` is "Fee (including GST) charged by Razorpay", and `fee_bearer` says who pays it. A fee that the customer
/// bears is part of the payment's `amount`, on top of what was asked for; one that the platform bears is taken from the shop's payout
/// and is no matter of the bill's.
fn customer_fee(payment: &Value) -> Option<Paise> {
    if text(payment, "fee_bearer")? != "customer" {
        return None;
    }
    paise(payment, "fee").filter(|fee| *fee > Paise::ZERO)
}

/// "Offers": a payment or order with one names it; the payment's `amount` is what is left to pay. The order inside a link's events says
/// so by `discount` or `app_offer`.
fn used_offer(entity: &Value) -> bool {
    text(entity, "offer_id").is_some()
        || ["discount", "app_offer"]
            .iter()
            .any(|name| entity.get(name).and_then(Value::as_bool) == Some(true))
}

/// A captured payment of another sum than asked for pays all of it when Razorpay itself says so: the link or order is paid, and of more the
/// customer's fee or `amount_paid` tells the reason, of less an offer. Less without an offer may be a part. Without link and order, a
/// fee that the customer bears tells what was asked for.
fn explained(
    report: PaymentReport,
    payment: &Value,
    order: Option<&Value>,
    asked: Option<&Asked>,
) -> PaymentReport {
    if report.status != AttemptStatus::Captured {
        return report;
    }
    let fee = customer_fee(payment);
    let without_fee = fee.and_then(|fee| report.amount.checked_sub(fee));
    let Some(asked) = asked else {
        return match without_fee {
            Some(rest) => PaymentReport { fee, ..report }.paying(rest),
            None => report,
        };
    };
    // A fee that makes up the difference to the paisa is on top, also where nobody says who bears it.
    let exact = paise(payment, "fee")
        .filter(|fee| report.amount.checked_sub(*fee) == Some(asked.amount))
        .filter(|fee| *fee > Paise::ZERO);
    let fee = fee.or(exact);
    let has_offer = used_offer(payment) || order.is_some_and(used_offer);
    let is_all = if report.amount > asked.amount {
        asked.is_covered || exact.is_some() || without_fee.is_some_and(|rest| rest <= asked.amount)
    } else {
        has_offer
    };
    if report.amount == asked.amount || !is_all {
        return report;
    }
    PaymentReport { fee, ..report }.paying(asked.amount)
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

fn paise(value: &Value, name: &str) -> Option<Paise> {
    Paise::new(value.get(name)?.as_i64()?).ok()
}

fn seconds(value: &Value, name: &str) -> Option<Millis> {
    value
        .get(name)?
        .as_i64()
        .filter(|t| *t > 0)
        .map(Millis::from_seconds)
}
