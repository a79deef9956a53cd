//! BillDesk v2: orders and their hosted page, UPI intents, transactions, refunds and webhooks.
//!
//! Written from docs.billdesk.io ("Headers & Authentication", "Create Order", "Create Transaction", "Retrieve Transaction",
//! "Create Refund", "Retrieve Refund", "Refunds") and Meta's "Billdesk Payment Gateway Integration Guide". The documents print no
//! errors; what is decided here about them is said so.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Act, Outcome, Refused, Vendor, merged, wanted};
use crate::calendar::{INDIA, date_and_time};
use crate::desk::{Desk, HookDraft, Mirror};
use crate::http::{Answer, Call};
use crate::jose::{Shared, client_of};
use crate::strict::{Fields, Problem};

/// "Requests with identical BD-TraceID within a 24 hour window would fail."
const TRACE_WINDOW: i64 = 24 * 60 * 60;
/// "Refunds", validity: the longer one, for there is no telling here which kind a payment is.
const REFUNDABLE_DAYS: i64 = 180;

const OPERATIONS: &[&str] = &[
    "create_order",
    "create_transaction",
    "retrieve_transaction",
    "create_refund",
    "retrieve_refund",
    "payment_page",
    "unknown",
];

const EVENTS: &[&str] = &[
    "transaction.success",
    "transaction.pending",
    "transaction.failed",
    "forged",
];

/// How webhooks carry their token: the documents do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum WebhookForm {
    /// As the body.
    #[default]
    Token,
    /// In the field `transaction_response` of a form.
    Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Security {
    Jose,
    Hmac,
}

/// A client, as `POST /_control/accounts` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    client_id: String,
    merchant_id: String,
    security: Security,
    signing_key: String,
    #[serde(default)]
    signing_key_id: Option<String>,
    #[serde(default)]
    encryption_key: Option<String>,
    #[serde(default)]
    encryption_key_id: Option<String>,
    /// Set in the portal. Intents are reported to their `ru` as well.
    #[serde(default)]
    webhook_url: Option<String>,
    /// Further addresses that hear of everything, of merchants who share the account.
    #[serde(default)]
    more_webhook_urls: Vec<String>,
    /// What the merchant can give back, in paise; without end if left out.
    #[serde(default)]
    balance: Option<i64>,
    #[serde(default)]
    webhook_form: WebhookForm,
    /// The only payee of intents; any if left out.
    #[serde(default)]
    vpa: Option<String>,
    /// Whether `transactions/get` shows the intent again: the documents do not say.
    #[serde(default = "yes")]
    shows_intents: bool,
}

fn yes() -> bool {
    true
}

impl Account {
    fn shared(&self) -> Shared {
        Shared {
            client: self.client_id.clone(),
            signing_key: self.signing_key.clone(),
            signing_key_id: self.signing_key_id.clone(),
            encryption: match self.security {
                Security::Hmac => None,
                Security::Jose => Some((
                    self.encryption_key.clone().unwrap_or_default(),
                    self.encryption_key_id.clone().unwrap_or_default(),
                )),
            },
        }
    }
}

#[derive(Debug, Clone)]
struct Order {
    account: String,
    orderid: String,
    bdorderid: String,
    rdata: String,
    amount: i64,
    ru: String,
    additional_info: Value,
    itemcode: String,
    /// Newest last.
    transactions: Vec<String>,
}

#[derive(Debug, Clone)]
struct Transaction {
    account: String,
    id: String,
    orderid: String,
    amount: i64,
    surcharge: i64,
    auth_status: &'static str,
    date: String,
    made_at: i64,
    method: String,
    ru: String,
    additional_info: Value,
    itemcode: String,
    /// What the request said of WhatsApp, for intents.
    whatsapp: Map<String, Value>,
    intent: Option<String>,
    bank_ref_no: String,
    refunds: Vec<Value>,
}

impl Transaction {
    fn refunded(&self) -> i64 {
        self.refunds
            .iter()
            .filter_map(|refund| paise(refund.get("refund_amount")?.as_str()?))
            .fold(0, i64::saturating_add)
    }
}

/// BillDesk.
#[derive(Debug, Default)]
pub(crate) struct BillDesk {
    accounts: BTreeMap<String, Account>,
    /// The accounts as they were given.
    said: BTreeMap<String, Value>,
    /// By `bdorderid`.
    orders: BTreeMap<String, Order>,
    transactions: BTreeMap<String, Transaction>,
    /// Newest last.
    sequence: Vec<String>,
    /// Account and trace id, and when it came.
    traces: HashMap<(String, String), i64>,
}

/// `{status, error_type, error_code, message}`, the one envelope that is known (from "Invalid timestamp header").
fn envelope(status: u16, code: &str, message: &str) -> Value {
    json!({"status": status, "error_type": "invalid_data_error", "error_code": code, "message": message})
}

/// An error BillDesk cannot protect, because it does not know for whom.
fn plain(status: u16, code: &str, message: &str) -> Box<Answer> {
    Box::new(Answer::json(status, &envelope(status, code, message)))
}

/// What is wrong with a request, before it is a token again.
struct No(u16, &'static str, String);

impl From<Problem> for No {
    fn from(problem: Problem) -> Self {
        let path = problem.path().to_owned();
        let message = match problem {
            Problem::Unknown { .. } => format!("Unknown field {path}"),
            Problem::Missing { .. } => format!("Missing {path}"),
            Problem::Type { wanted, .. } => format!("Invalid {path}: must be {wanted}"),
            Problem::Value { why, .. } => format!("Invalid {path}: {why}"),
        };
        Self(422, "GNIDE0003", message)
    }
}

fn no(code: &'static str, message: impl Into<String>) -> No {
    No(422, code, message.into())
}

/// "Transaction amount in two decimals, eg. 299.28".
fn paise(text: &str) -> Option<i64> {
    let (rupees, rest) = text.split_once('.')?;
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(rupees) || !digits(rest) || rest.len() != 2 {
        return None;
    }
    rupees
        .parse::<i64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(rest.parse().ok()?)
}

fn rupees(paise: i64) -> String {
    format!("{}.{:02}", paise.div_euclid(100), paise.rem_euclid(100))
}

/// `YYYY-MM-DDThh:mm:ssTZD`.
fn stamp(seconds: i64) -> String {
    let (date, time) = date_and_time(seconds, INDIA);
    format!("{date}T{time}+05:30")
}

fn need_amount(fields: &Fields<'_>, name: &str) -> Result<i64, No> {
    paise(fields.need_text(name, 20)?)
        .filter(|amount| *amount > 0)
        .ok_or_else(|| {
            no(
                "GNIDE0004",
                format!("Invalid {name}: must have two decimals"),
            )
        })
}

/// Letters and digits, as all samples; the length is second hand.
fn need_order_id(fields: &Fields<'_>) -> Result<String, No> {
    let id = fields.need_text("orderid", 120)?;
    if id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(id.to_owned())
    } else {
        Err(no("ORDIE0001", "Invalid orderid"))
    }
}

/// "device": for intents mandatory; its address has to be IPv4.
fn check_device(device: &Fields<'_>) -> Result<(), No> {
    device.need_text("init_channel", 20)?;
    device.need_text("user_agent", 1024)?;
    device.text("accept_header", 1024)?;
    let ip = device.need_text("ip", 45)?;
    if ip.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(no("DEVIE0001", "Invalid ip in device"));
    }
    Ok(())
}

const DEVICE: &[&str] = &["init_channel", "ip", "user_agent", "accept_header"];

/// "additional_info: array of 7 additional_info values" ("10" in Meta's guide).
fn additional_info(fields: &Fields<'_>) -> Result<Value, No> {
    let names: Vec<String> = (1..=10).map(|n| format!("additional_info{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(info) = fields.object("additional_info", &names)? {
        for name in &names {
            info.text(name, 120)?;
        }
    }
    Ok(fields
        .get("additional_info")
        .cloned()
        .unwrap_or_else(|| json!({})))
}

impl Vendor for BillDesk {
    fn name(&self) -> &'static str {
        "billdesk"
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
            ("POST", ["payments", "ve1_2", "orders", "create"]) => "create_order",
            ("POST", ["payments", "ve1_2", "transactions", "create"]) => "create_transaction",
            ("POST", ["payments", "ve1_2", "transactions", "get"]) => "retrieve_transaction",
            ("POST", ["payments", "ve1_2", "refunds", "create"]) => "create_refund",
            ("POST", ["payments", "ve1_2", "refunds", "get"]) => "retrieve_refund",
            ("POST", ["web", "v1_2", "embeddedsdk"] | ["web", "v1_2", "pay"]) => "payment_page",
            _ => "unknown",
        }
    }

    fn answer(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let operation = self.operation(call);
        match operation {
            "payment_page" => return self.page(call, desk),
            "unknown" => return *plain(404, "GNNFE0001", "No such address"),
            _ => {}
        }
        let (account, payload) = match self.authenticate(call, desk) {
            Ok(known) => known,
            Err(answer) => return *answer,
        };
        let made = match operation {
            "create_order" => self.create_order(&account, &payload, desk),
            "create_transaction" => self.create_transaction(&account, &payload, desk),
            "retrieve_transaction" => self.retrieve_transaction(&account, &payload),
            "create_refund" => self.create_refund(&account, &payload, desk),
            _ => self.retrieve_refund(&account, &payload),
        };
        let (status, document) = match made {
            Ok(document) => (200, document),
            Err(No(status, code, message)) => (status, envelope(status, code, &message)),
        };
        // "Errors come as JOSE too."
        let token = account
            .shared()
            .seal(document.to_string().as_bytes(), &desk.id(12))
            .unwrap_or_default();
        let mut answer = Answer {
            content_type: "application/jose",
            body: token.into_bytes(),
            ..Answer::json(status, &Value::Null)
        };
        answer.account = Some(account.client_id);
        match payload.get("orderid").and_then(Value::as_str) {
            Some(order) => answer.about(order),
            None => answer,
        }
    }

    fn error(&self, status: u16, code: Option<i64>, _desk: &mut Desk) -> Value {
        let code = code.map_or_else(|| "GNRLE0001".to_owned(), |code| format!("GNRLE{code:04}"));
        envelope(status, &code, "The request could not be processed")
    }

    fn register(&mut self, account: &Value) -> Result<(), Refused> {
        let (client, said) = merged(&self.said, "client_id", account)?;
        let account: Account = serde_json::from_value(said.clone())
            .map_err(|error| Refused::invalid(format!("billdesk: {error}")))?;
        if account.security == Security::Jose
            && account.encryption_key.as_ref().map(String::len) != Some(32)
        {
            return Err(Refused::invalid(
                "billdesk: security jose needs an encryption_key of 32 characters",
            ));
        }
        self.said.insert(client.clone(), said);
        self.accounts.insert(client, account);
        Ok(())
    }

    /// Neither orders nor intents are documented to end.
    fn tick(&mut self, _desk: &mut Desk) {}

    fn owns(&self, link: &str) -> bool {
        self.of_intent(link).is_some() || self.orders.contains_key(link)
    }

    fn customer(&mut self, act: Act, request: &Value, desk: &mut Desk) -> Result<Outcome, Refused> {
        if matches!(act, Act::Message | Act::Read) {
            return Err(Refused::invalid("BillDesk carries no messages"));
        }
        let link = wanted(request, "link");
        if let Some(id) = link.and_then(|link| self.of_intent(link)) {
            return self.use_intent(&id, act, request, desk);
        }
        let reference = link.or_else(|| wanted(request, "reference_id"));
        let reference =
            reference.ok_or_else(|| Refused::invalid("link or reference_id is missing"))?;
        let ours = |account: &str| wanted(request, "account").is_none_or(|name| name == account);
        // The newest one: an order whose answer was lost is there as well.
        let intent = self.sequence.iter().rev().find(|id| {
            self.transactions.get(*id).is_some_and(|transaction| {
                transaction.intent.is_some()
                    && ours(&transaction.account)
                    && is_about(
                        &transaction.orderid,
                        &transaction.additional_info,
                        reference,
                    )
            })
        });
        if let Some(id) = intent.cloned() {
            return self.use_intent(&id, act, request, desk);
        }
        let order = self.orders.values().rev().find(|order| {
            ours(&order.account)
                && (order.bdorderid == reference
                    || is_about(&order.orderid, &order.additional_info, reference))
        });
        let order = order
            .cloned()
            .ok_or_else(|| Refused::unknown(format!("no order is about {reference:?}")))?;
        self.use_page(&order, act, request, desk)
    }

    fn mirror(&mut self, mirror: &Mirror, desk: &mut Desk) {
        if let Mirror::Payment {
            gateway,
            account,
            order_id,
            payment_id,
            amount,
            method,
            is_paid,
            extras,
        } = mirror
            && gateway == "billdesk"
            && self.accounts.contains_key(account)
        {
            let transaction = Transaction {
                account: account.clone(),
                id: payment_id.clone(),
                orderid: order_id.clone(),
                amount: *amount,
                surcharge: 0,
                auth_status: if *is_paid { "0300" } else { "0399" },
                date: stamp(desk.now()),
                made_at: desk.now(),
                method: method.clone(),
                ru: String::new(),
                additional_info: Value::Object(extras.clone()),
                itemcode: "DIRECT".to_owned(),
                whatsapp: Map::new(),
                intent: None,
                bank_ref_no: desk.digits(12),
                refunds: Vec::new(),
            };
            self.keep(transaction, desk);
        }
    }

    fn settle_refund(
        &mut self,
        id: &str,
        _status: &str,
        _speed: Option<&str>,
        _desk: &mut Desk,
    ) -> Result<Value, Refused> {
        // "Refunds": both states mean that the money goes back; there is no state before them.
        let mut all = self.transactions.values().flat_map(|t| &t.refunds);
        match all.find(|refund| refund.get("refundid").is_some_and(|found| found == id)) {
            Some(_) => Err(Refused::conflict(
                "not_pending",
                "BillDesk knows no pending refunds",
            )),
            None => Err(Refused::unknown(format!("no refund {id:?}"))),
        }
    }

    fn forge(
        &self,
        account: Option<&str>,
        body: Vec<u8>,
        signature: Option<&str>,
        desk: &mut Desk,
    ) -> Result<HookDraft, Refused> {
        let account = match account {
            Some(client) => self.accounts.get(client),
            None => self.accounts.values().next(),
        }
        .ok_or_else(|| Refused::unknown("no such BillDesk account"))?;
        let url = account
            .webhook_url
            .clone()
            .ok_or_else(|| Refused::unknown("the account has no webhook_url"))?;
        // The signature is part of the body: "none" sends the body as it stands.
        let body = match signature {
            Some("none") => body,
            signature => {
                let token = account
                    .shared()
                    .seal(&body, &desk.id(12))
                    .unwrap_or_default();
                match (signature, token.rsplit_once('.')) {
                    (Some(signature), Some((input, _))) => format!("{input}.{signature}"),
                    _ => token,
                }
                .into_bytes()
            }
        };
        Ok(draft(
            account,
            "forged",
            None,
            url,
            body,
            "application/jose",
        ))
    }
}

/// Whether an order is the one a test names: by its number, or by the merchant's words on it.
fn is_about(orderid: &str, info: &Value, reference: &str) -> bool {
    let mut noted = info.as_object().into_iter().flat_map(Map::values);
    // A merchant's note begins with its number, and may go on behind a colon.
    let says = |note: &str| note.split(':').next() == Some(reference);
    orderid == reference || noted.any(|note| note.as_str().is_some_and(says))
}

fn draft(
    account: &Account,
    event: &str,
    reference: Option<&str>,
    url: String,
    body: Vec<u8>,
    kind: &str,
) -> HookDraft {
    HookDraft {
        vendor: "billdesk",
        account: account.client_id.clone(),
        event: event.to_owned(),
        reference_id: reference.map(str::to_owned),
        url,
        headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        body,
    }
}

type Made = Result<Value, No>;

impl BillDesk {
    /// "Headers & Authentication".
    fn authenticate(&mut self, call: &Call, desk: &Desk) -> Result<(Account, Value), Box<Answer>> {
        for name in ["content-type", "accept"] {
            if call.header(name) != Some("application/jose") {
                return Err(plain(422, "GNIDE0005", &format!("Invalid {name} header")));
            }
        }
        let token = String::from_utf8_lossy(&call.body).into_owned();
        let refused = || plain(401, "GNAUE0001", "Invalid client or signature");
        let client = client_of(&token).ok_or_else(refused)?;
        let account = self.accounts.get(&client).cloned().ok_or_else(refused)?;
        let payload = account.shared().open(&token).ok_or_else(refused)?;
        // "a value of BD-Timestamp 20210113180403"; the error is the one known by heart.
        let timestamp = call.header("bd-timestamp").unwrap_or_default();
        if timestamp.len() != 14 || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(plain(422, "GNIDE0001", "Invalid timestamp header"));
        }
        let trace = call.header("bd-traceid").unwrap_or_default();
        if !(1..=35).contains(&trace.len())
            || !trace.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(plain(422, "GNIDE0002", "Invalid traceid header"));
        }
        let now = desk.now();
        let key = (client, trace.to_owned());
        if self
            .traces
            .get(&key)
            .is_some_and(|at| now.saturating_sub(*at) < TRACE_WINDOW)
        {
            return Err(plain(409, "GNDUE0001", "Duplicate traceid header"));
        }
        self.traces.insert(key, now);
        let payload: Value = serde_json::from_slice(&payload)
            .map_err(|_| plain(422, "GNIDE0006", "The payload is not JSON"))?;
        match payload.get("mercid").and_then(Value::as_str) {
            Some(merchant) if merchant == account.merchant_id => Ok((account, payload)),
            _ => Err(plain(
                403,
                "GNAUE0002",
                "The client may not act for this mercid",
            )),
        }
    }

    /// That an order id is taken once is not written anywhere; "unique" is.
    fn check_new(&self, account: &Account, orderid: &str) -> Result<(), No> {
        let taken = self
            .orders
            .values()
            .any(|o| o.account == account.client_id && o.orderid == orderid)
            || self
                .transactions
                .values()
                .any(|t| t.account == account.client_id && t.orderid == orderid);
        if taken {
            return Err(No(409, "ORDDE0001", "Duplicate orderid".to_owned()));
        }
        Ok(())
    }

    /// "Create Order".
    fn create_order(&mut self, account: &Account, payload: &Value, desk: &mut Desk) -> Made {
        let fields = Fields::of(
            payload,
            "",
            &[
                "mercid",
                "orderid",
                "amount",
                "order_date",
                "currency",
                "ru",
                "itemcode",
                "additional_info",
                "device",
                "settlement_lob",
                "customer",
                "invoice",
                "split_payment",
            ],
        )?;
        let orderid = need_order_id(&fields)?;
        let amount = need_amount(&fields, "amount")?;
        fields.need_word("currency", &["356"])?;
        let date = fields.need_text("order_date", 25)?;
        if date.len() != 25 || date.as_bytes().get(10) != Some(&b'T') {
            return Err(no("ORDIE0003", "Invalid order_date"));
        }
        let ru = fields.need_text("ru", 1024)?;
        if !ru.starts_with("https://") && !ru.starts_with("http://") {
            return Err(no("ORDIE0004", "Invalid ru"));
        }
        let itemcode = fields.need_text("itemcode", 64)?;
        if let Some(device) = fields.object("device", DEVICE)? {
            check_device(&device)?;
        }
        let additional_info = additional_info(&fields)?;
        self.check_new(account, &orderid)?;
        let order = Order {
            account: account.client_id.clone(),
            orderid: orderid.clone(),
            bdorderid: format!("OA{:08}{}", self.orders.len(), desk.id(6).to_uppercase()),
            rdata: desk.id(48),
            amount,
            ru: ru.to_owned(),
            additional_info: additional_info.clone(),
            itemcode: itemcode.to_owned(),
            transactions: Vec::new(),
        };
        let base = format!("{}/billdesk", desk.base_url);
        let shown = json!({
            "objectid": "order", "orderid": orderid, "bdorderid": order.bdorderid, "mercid": account.merchant_id,
            "order_date": date, "amount": rupees(amount), "currency": "356", "ru": ru, "itemcode": itemcode,
            "additional_info": additional_info, "next_step": "redirect", "status": "ACTIVE", "createdon": stamp(desk.now()),
            "links": [
                {"href": format!("{base}/payments/ve1_2/orders/{}", order.bdorderid), "rel": "self", "method": "GET"},
                {"href": format!("{base}/web/v1_2/embeddedsdk"), "rel": "redirect", "method": "POST",
                 "parameters": {"mercid": account.merchant_id, "bdorderid": order.bdorderid, "rdata": order.rdata},
                 "headers": {"authorization": format!("OToken {}", desk.id(32))}},
            ],
        });
        self.orders.insert(order.bdorderid.clone(), order);
        Ok(shown)
    }

    /// Meta's guide, "Initiate Payment API".
    fn create_transaction(&mut self, account: &Account, payload: &Value, desk: &mut Desk) -> Made {
        const WHATSAPP: [&str; 4] = ["wa_mc", "wa_vpa", "wa_txnid", "wa_mercname"];
        let fields = Fields::of(
            payload,
            "",
            &[
                "mercid",
                "orderid",
                "amount",
                "currency",
                "bankid",
                "txn_process_type",
                "itemcode",
                "payment_method_type",
                "wa_mc",
                "wa_vpa",
                "wa_txnid",
                "wa_mercname",
                "additional_info",
                "device",
                "ru",
            ],
        )?;
        let orderid = need_order_id(&fields)?;
        let amount = need_amount(&fields, "amount")?;
        fields.need_word("currency", &["356"])?;
        fields.need_word("txn_process_type", &["intent"])?;
        fields.need_word("payment_method_type", &["upi"])?;
        let itemcode = fields.need_text("itemcode", 64)?.to_owned();
        let ru = fields.text("ru", 1024)?.unwrap_or_default().to_owned();
        let mut whatsapp = Map::new();
        for name in WHATSAPP {
            whatsapp.insert(name.to_owned(), fields.need_text(name, 64)?.into());
        }
        let said = |name: &str| {
            whatsapp
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if account
            .vpa
            .as_ref()
            .is_some_and(|vpa| *vpa != said("wa_vpa"))
        {
            return Err(no("TRNIE0002", "Invalid wa_vpa"));
        }
        // It becomes WhatsApp's reference_id, and may not be longer than that.
        let txnid = said("wa_txnid");
        if txnid.len() > 35 {
            return Err(no("TRNIE0003", "Invalid wa_txnid"));
        }
        check_device(&fields.need_object("device", DEVICE)?)?;
        let additional_info = additional_info(&fields)?;
        self.check_new(account, &orderid)?;
        let encoded = percent_encoding::utf8_percent_encode(
            &said("wa_mercname"),
            percent_encoding::NON_ALPHANUMERIC,
        )
        .to_string();
        let id = format!("X{}", desk.digits(13));
        let intent = format!(
            "upi://pay?pa={}&pn={encoded}&mc={}&tr=XHD{id}&tn=Pay&am={}&mam={}&cu=INR",
            said("wa_vpa"),
            said("wa_mc"),
            rupees(amount),
            rupees(amount)
        );
        let transaction = Transaction {
            account: account.client_id.clone(),
            id: id.clone(),
            orderid,
            amount,
            surcharge: 0,
            auth_status: "0002",
            date: stamp(desk.now()),
            made_at: desk.now(),
            method: "upi".to_owned(),
            ru,
            additional_info,
            itemcode,
            whatsapp,
            intent: Some(intent),
            bank_ref_no: desk.digits(12),
            refunds: Vec::new(),
        };
        let shown = show(account, &transaction, true);
        self.sequence.push(id.clone());
        self.transactions.insert(id, transaction);
        Ok(shown)
    }

    /// "Retrieve Transaction": by orderid or transactionid. Of several attempts the successful one, else the newest.
    fn retrieve_transaction(&self, account: &Account, payload: &Value) -> Made {
        let fields = Fields::of(
            payload,
            "",
            &["mercid", "orderid", "transactionid", "refund_details"],
        )?;
        let order = fields.text("orderid", 120)?;
        let id = fields.text("transactionid", 64)?;
        let wants_refunds = match fields.get("refund_details") {
            None => false,
            Some(Value::Bool(wanted)) => *wanted,
            Some(Value::String(word)) if word == "true" => true,
            Some(_) => return Err(no("TRNIE0004", "Invalid refund_details")),
        };
        if order.is_some() == id.is_some() {
            return Err(no("TRNIE0005", "Either orderid or transactionid"));
        }
        let mut found: Vec<&Transaction> = self
            .sequence
            .iter()
            .filter_map(|id| self.transactions.get(id))
            .filter(|t| t.account == account.client_id)
            .filter(|t| order.is_none_or(|o| t.orderid == o) && id.is_none_or(|i| t.id == i))
            .collect();
        found.sort_by_key(|t| t.auth_status == "0300");
        let Some(transaction) = found.last() else {
            return Err(No(404, "TRNNF0001", "Transaction not found".to_owned()));
        };
        let mut shown = show(account, transaction, account.shows_intents);
        if let (true, Some(shown)) = (wants_refunds, shown.as_object_mut()) {
            // The list's name is from memory; the documents do not print it.
            shown.insert("refund_info".to_owned(), transaction.refunds.clone().into());
        }
        Ok(shown)
    }

    /// "Create Refund".
    fn create_refund(&mut self, account: &Account, payload: &Value, desk: &mut Desk) -> Made {
        let fields = Fields::of(
            payload,
            "",
            &[
                "mercid",
                "orderid",
                "transactionid",
                "transaction_date",
                "txn_amount",
                "refund_amount",
                "currency",
                "merc_refund_ref_no",
                "split_payment",
                "device",
            ],
        )?;
        let orderid = fields.need_text("orderid", 120)?;
        let id = fields.need_text("transactionid", 64)?;
        let date = fields.need_text("transaction_date", 25)?;
        let amount = need_amount(&fields, "refund_amount")?;
        let of = need_amount(&fields, "txn_amount")?;
        fields.need_word("currency", &["356"])?;
        let name = fields.need_text("merc_refund_ref_no", 100)?;
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+_:-".contains(&byte))
        {
            return Err(no("RFDIE0001", "Invalid merc_refund_ref_no"));
        }
        let ours = |t: &&Transaction| t.account == account.client_id;
        let named = |t: &Transaction| {
            t.refunds
                .iter()
                .any(|r| r.get("merc_refund_ref_no").is_some_and(|n| n == name))
        };
        if self.transactions.values().filter(ours).any(named) {
            return Err(No(
                409,
                "RFDDE0001",
                "Duplicate merc_refund_ref_no".to_owned(),
            ));
        }
        let Some(transaction) = self.transactions.get(id).filter(ours) else {
            return Err(No(404, "TRNNF0001", "Transaction not found".to_owned()));
        };
        if transaction.orderid != orderid || transaction.date != date || transaction.amount != of {
            return Err(no(
                "RFDIE0002",
                "orderid, transaction_date and txn_amount must be the transaction's",
            ));
        }
        if transaction.auth_status != "0300" {
            return Err(no("RFDIE0003", "The transaction is not successful"));
        }
        let left = transaction.amount.saturating_sub(transaction.refunded());
        // "the sum of the refund amounts do not exceed the transaction amount"
        if amount > left {
            return Err(no(
                "RFDIE0004",
                "The refund amount exceeds the transaction amount",
            ));
        }
        // How this is refused is not printed anywhere.
        if account.balance.is_some_and(|balance| amount > balance) {
            return Err(no(
                "RFDIE0007",
                "Insufficient balance to process the refund",
            ));
        }
        let day = |seconds: i64| seconds.saturating_add(INDIA).div_euclid(86_400);
        let now = desk.now();
        let age = day(now).saturating_sub(day(transaction.made_at));
        if age > REFUNDABLE_DAYS {
            return Err(no("RFDIE0005", "The transaction is too old"));
        }
        // 0699: a full refund before the settlement, which here is the end of the day.
        let is_cancelled = amount == transaction.amount && age == 0;
        let refund = json!({
            "objectid": "refund", "refundid": format!("RF{}", desk.digits(12)), "transactionid": id, "orderid": orderid,
            "mercid": account.merchant_id, "transaction_date": date, "txn_amount": rupees(of), "refund_amount": rupees(amount),
            "currency": "356", "refund_date": stamp(now), "merc_refund_ref_no": name,
            "refund_status": if is_cancelled { "0699" } else { "0799" },
        });
        if let Some(transaction) = self.transactions.get_mut(id) {
            transaction.refunds.push(refund.clone());
        }
        Ok(refund)
    }

    /// "Retrieve Refund": by refundid or merc_refund_ref_no.
    fn retrieve_refund(&self, account: &Account, payload: &Value) -> Made {
        let fields = Fields::of(payload, "", &["mercid", "refundid", "merc_refund_ref_no"])?;
        let keys = ["refundid", "merc_refund_ref_no"];
        let Some(key) = keys.into_iter().find(|key| fields.has(key)) else {
            return Err(no("RFDIE0006", "Either refundid or merc_refund_ref_no"));
        };
        let wanted = fields.need_text(key, 100)?;
        self.transactions
            .values()
            .filter(|t| t.account == account.client_id)
            .flat_map(|t| &t.refunds)
            .find(|refund| refund.get(key).is_some_and(|found| found == wanted))
            .cloned()
            .ok_or_else(|| No(404, "RFDNF0001", "Refund not found".to_owned()))
    }

    /// The transaction of an intent, whole or narrowed to what WhatsApp takes.
    fn of_intent(&self, link: &str) -> Option<String> {
        let query = link.strip_prefix("upi://pay?")?;
        let id = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("tr=XHD"))?;
        self.transactions.contains_key(id).then(|| id.to_owned())
    }

    fn use_intent(
        &mut self,
        id: &str,
        act: Act,
        request: &Value,
        desk: &mut Desk,
    ) -> Result<Outcome, Refused> {
        let late = request.get("late") == Some(&Value::Bool(true));
        let mut transaction = self
            .transactions
            .get(id)
            .cloned()
            .ok_or_else(|| Refused::unknown(format!("no transaction {id:?}")))?;
        match transaction.auth_status {
            "0300" => return Err(Refused::conflict("already_paid", "an intent is paid once")),
            "0399" if !late => {
                return Err(Refused::conflict("not_payable", "the intent has failed"));
            }
            _ => {}
        }
        settle(&mut transaction, act, request)?;
        Ok(Outcome::Done(self.keep(transaction, desk)))
    }

    /// A customer on the hosted page. A failed attempt does not end the order.
    fn use_page(
        &mut self,
        order: &Order,
        act: Act,
        request: &Value,
        desk: &mut Desk,
    ) -> Result<Outcome, Refused> {
        let late = request.get("late") == Some(&Value::Bool(true));
        let is_paid = order.transactions.iter().any(|id| {
            let transaction = self.transactions.get(id);
            transaction.is_some_and(|t| t.auth_status == "0300")
        });
        if is_paid && !late {
            return Err(Refused::conflict("already_paid", "the order is paid"));
        }
        let mut transaction = Transaction {
            account: order.account.clone(),
            id: format!("X{}", desk.digits(13)),
            orderid: order.orderid.clone(),
            amount: order.amount,
            surcharge: 0,
            auth_status: "0002",
            date: stamp(desk.now()),
            made_at: desk.now(),
            method: wanted(request, "method").unwrap_or("upi").to_owned(),
            ru: String::new(),
            additional_info: order.additional_info.clone(),
            itemcode: order.itemcode.clone(),
            whatsapp: Map::new(),
            intent: None,
            bank_ref_no: desk.digits(12),
            refunds: Vec::new(),
        };
        settle(&mut transaction, act, request)?;
        if let Some(order) = self.orders.get_mut(&order.bdorderid) {
            order.transactions.push(transaction.id.clone());
        }
        let id = transaction.id.clone();
        let mut done = self.keep(transaction, desk);
        // What the browser posts to `ru`.
        let token = self.transactions.get(&id).and_then(|t| self.token(t, desk));
        if let Some(done) = done.as_object_mut() {
            done.insert("redirect".to_owned(), json!({
                "url": order.ru,
                "fields": {"orderid": order.orderid, "terminal_state": "Y", "transaction_response": token},
            }));
        }
        Ok(Outcome::Done(done))
    }

    fn token(&self, transaction: &Transaction, desk: &mut Desk) -> Option<String> {
        let account = self.accounts.get(&transaction.account)?;
        let document = show(account, transaction, false).to_string();
        account.shared().seal(document.as_bytes(), &desk.id(12))
    }

    /// Keeps a transaction and reports it: to the address set in the portal, and of intents to their `ru`.
    fn keep(&mut self, transaction: Transaction, desk: &mut Desk) -> Value {
        let event = match transaction.auth_status {
            "0300" => "transaction.success",
            "0399" => "transaction.failed",
            _ => "transaction.pending",
        };
        if let (Some(account), Some(token)) = (
            self.accounts.get(&transaction.account).cloned(),
            self.token(&transaction, desk),
        ) {
            let (body, kind) = match account.webhook_form {
                WebhookForm::Token => (token, "application/jose"),
                WebhookForm::Form => (
                    format!(
                        "orderid={}&transaction_response={token}",
                        transaction.orderid
                    ),
                    "application/x-www-form-urlencoded",
                ),
            };
            let mut urls: Vec<String> = account.webhook_url.clone().into_iter().collect();
            urls.extend(account.more_webhook_urls.clone());
            if !transaction.ru.is_empty() && !urls.contains(&transaction.ru) {
                urls.push(transaction.ru.clone());
            }
            for url in urls {
                let body = body.clone().into_bytes();
                desk.send(draft(
                    &account,
                    event,
                    Some(&transaction.orderid),
                    url,
                    body,
                    kind,
                ));
            }
        }
        let done = json!({
            "vendor": "billdesk", "payment_id": transaction.id, "order_id": transaction.orderid,
            "amount": transaction.amount, "auth_status": transaction.auth_status,
            "status": match transaction.auth_status { "0300" => "captured", "0399" => "failed", _ => "pending" },
        });
        if !self.transactions.contains_key(&transaction.id) {
            self.sequence.push(transaction.id.clone());
        }
        self.transactions
            .insert(transaction.id.clone(), transaction);
        done
    }

    /// "Neo – Full Redirect": the merchant's page posts `rdata` here; the button pays and leads back as BillDesk would.
    fn page(&mut self, call: &Call, desk: &mut Desk) -> Answer {
        let form = call.form().unwrap_or_default();
        let field = |name: &str| {
            form.iter()
                .find(|(found, _)| found == name)
                .map(|(_, value)| value.as_str())
        };
        let order = field("bdorderid")
            .and_then(|id| self.orders.get(id))
            .cloned();
        let order = order.filter(|order| {
            let merchant = self
                .accounts
                .get(&order.account)
                .map(|account| account.merchant_id.as_str());
            field("rdata") == Some(order.rdata.as_str()) && field("mercid") == merchant
        });
        let Some(order) = order else {
            return Answer::html(
                400,
                "<!doctype html><title>BillDesk</title><p>Invalid request".to_owned(),
            );
        };
        let head =
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>BillDesk</title>";
        let input = |name: &str, value: &str| {
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
        };
        if call.path.ends_with("/pay") {
            let body = match self.use_page(&order, Act::Pay, &json!({}), desk) {
                Ok(Outcome::Done(done)) => {
                    let text = |pointer: &str| {
                        done.pointer(pointer)
                            .and_then(Value::as_str)
                            .unwrap_or_default()
                            .to_owned()
                    };
                    let inputs: String = ["orderid", "terminal_state", "transaction_response"]
                        .iter()
                        .map(|name| input(name, &text(&format!("/redirect/fields/{name}"))))
                        .collect();
                    let ru = text("/redirect/url")
                        .replace('&', "&amp;")
                        .replace('"', "&quot;");
                    format!(
                        "{head}<h1>Paid</h1><form method=\"post\" action=\"{ru}\">{inputs}<button>Back to the shop</button></form></html>"
                    )
                }
                _ => format!("{head}<p>This order is paid already.</html>"),
            };
            return Answer::html(200, body).about(&order.orderid);
        }
        let merchant = field("mercid").unwrap_or_default();
        let inputs = [
            ("mercid", merchant),
            ("bdorderid", order.bdorderid.as_str()),
            ("rdata", order.rdata.as_str()),
        ]
        .map(|(name, value)| input(name, value))
        .concat();
        let amount = rupees(order.amount);
        let body = format!(
            "{head}<h1>Rs. {amount}</h1><form method=\"post\" action=\"pay\">{inputs}<button>Pay</button></form></html>"
        );
        Answer::html(200, body).about(&order.orderid)
    }
}

/// What a customer's act makes of a transaction.
fn settle(transaction: &mut Transaction, act: Act, request: &Value) -> Result<(), Refused> {
    let number = |name: &str| request.get(name).and_then(Value::as_i64);
    if let Some(amount) = number("amount") {
        if amount <= 0 {
            return Err(Refused::invalid("amount must be positive"));
        }
        transaction.amount = amount;
    }
    transaction.surcharge = number("surcharge").unwrap_or(0);
    transaction.auth_status = match act {
        Act::Pay if request.get("authorize_only") == Some(&Value::Bool(true)) => "0002",
        Act::Pay => "0300",
        _ => "0399",
    };
    Ok(())
}

/// A transaction object (Meta's guide, "Status webhook").
fn show(account: &Account, transaction: &Transaction, with_intent: bool) -> Value {
    let (kind, code, description) = match transaction.auth_status {
        "0300" => ("success", "TRS0000", "Transaction Successful"),
        "0399" => (
            "payment_processing_error",
            "TRPPE0033",
            "Transaction failed at the bank",
        ),
        _ => ("pending", "TRP0000", "Transaction Pending "),
    };
    let mut shown = json!({
        "objectid": "transaction", "transactionid": transaction.id, "orderid": transaction.orderid,
        "mercid": account.merchant_id, "transaction_date": transaction.date, "amount": rupees(transaction.amount),
        "surcharge": rupees(transaction.surcharge), "discount": "0.00",
        "charge_amount": rupees(transaction.amount.saturating_add(transaction.surcharge)), "currency": "356",
        "additional_info": transaction.additional_info, "itemcode": transaction.itemcode,
        "auth_status": transaction.auth_status, "transaction_error_code": code, "transaction_error_desc": description,
        "transaction_error_type": kind, "payment_method_type": transaction.method, "bank_ref_no": transaction.bank_ref_no,
    });
    if let Some(shown) = shown.as_object_mut() {
        if !transaction.ru.is_empty() {
            shown.insert("ru".to_owned(), transaction.ru.as_str().into());
        }
        shown.extend(transaction.whatsapp.clone());
        if let (true, Some(intent)) = (with_intent, &transaction.intent) {
            let encoded = base64::engine::general_purpose::STANDARD.encode(intent);
            shown.insert("txn_process_type".to_owned(), "intent".into());
            shown.insert("intent".to_owned(), encoded.into());
        }
    }
    shown
}
