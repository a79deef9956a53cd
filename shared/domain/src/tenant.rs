//! A tenant's document, as it stands in the parameter store. Reading it here is the check that onboarding runs first.
//!
//! Credentials stay opaque: which fields a vendor needs is the connector's business, so a new vendor does not touch this file.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::consent::ConsentWords;
use crate::fault::Fault;
use crate::ids::TenantId;
use crate::json::{self, Fields};
use crate::message::{Fulfilment, Template, Variable};
use crate::payment::PaymentMode;
use crate::phone::Country;
use crate::proof::BillProofs;
use crate::signature::{same_bytes, sha256};

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Post bills, read orders, change and resend them.
    Invoices,
    /// Refund.
    Refunds,
    /// Read the books.
    Reports,
}

impl Scope {
    /// The word in the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invoices => "invoices",
            Self::Refunds => "refunds",
            Self::Reports => "reports",
        }
    }
}

/// An API key, known only by its hash.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its name, for logs and timelines.
    pub id: String,
    /// SHA-256 of the whole key.
    pub sha256: [u8; 32],
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// WhatsApp or SMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// WhatsApp.
    WhatsApp,
    /// SMS.
    Sms,
}

impl ChannelKind {
    /// The word in documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WhatsApp => "whatsapp",
            Self::Sms => "sms",
        }
    }
}

/// A vendor account: where it is and how to get in.
#[derive(Clone)]
pub struct Account {
    /// Vendor's name.
    pub vendor: String,
    /// Replaces everything before the vendor's documented path.
    pub base_url: Option<String>,
    /// The document's `credentials` object; a connector reads it.
    pub credentials: Credentials,
}

/// What vendors call the name of an account, which is no secret.
const ACCOUNT_NAMES: [&str; 4] = ["key_id", "key", "merchant_identifier", "merchant_id"];

impl Account {
    /// Twelve hex digits that tell this account from the tenant's others. They stand in every order, so they say nothing about the
    /// account to whoever reads one.
    #[must_use]
    pub fn mark(&self) -> Option<String> {
        let name = ACCOUNT_NAMES
            .iter()
            .find_map(|name| self.credentials.0.get(*name)?.as_str())?;
        let hash = sha256(format!("{}/{name}", self.vendor).as_bytes());
        Some(hex::encode(hash.get(..6).unwrap_or_default()))
    }
}

/// A credentials object. Printed as redacted.
#[derive(Clone, Default)]
pub struct Credentials(Map<String, Value>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

impl Credentials {
    /// Takes a JSON object.
    #[must_use]
    pub fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// Whether the object `name` in it has this field.
    #[must_use]
    pub fn has(&self, name: &str, field: &str) -> bool {
        self.0.get(name).is_some_and(|v| v.get(field).is_some())
    }

    /// Lets a connector read its fields; faults point into the tenant document at `pointer`.
    pub fn read<T>(
        &self,
        pointer: &str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Result<T, Vec<Fault>> {
        json::read(&Value::Object(self.0.clone()), pointer, read)
    }
}

/// A secret field of a credentials object.
pub fn secret<'a>(f: &mut Fields<'a>, name: &'a str) -> Option<SecretString> {
    f.required(name)?;
    f.exact_text(name, 8192).map(SecretString::from)
}

/// The token is all that keeps strangers' callbacks out where a vendor signs none.
const SHORTEST_TOKEN: usize = 16;

/// `callback_token`, the secret in the address that a vendor reports to. Every vendor's credentials may have one. `None`: it is there and
/// cannot be used.
pub fn callback_token(f: &mut Fields<'_>) -> Option<Option<SecretString>> {
    if f.value("callback_token").is_none() {
        return Some(None);
    }
    let token = secret(f, "callback_token")?;
    if token.expose_secret().chars().count() < SHORTEST_TOKEN {
        f.fault(
            "callback_token",
            "too_short",
            format!("must have at least {SHORTEST_TOKEN} characters, and be random"),
        );
        return None;
    }
    Some(Some(token))
}

/// A list of secrets, current first; at least one.
pub fn secrets<'a>(f: &mut Fields<'a>, name: &'a str) -> Option<Vec<SecretString>> {
    f.required(name)?;
    let list = f.list(name)?;
    let read: Option<Vec<SecretString>> = list
        .iter()
        .map(|v| {
            v.as_str()
                .filter(|t| !t.trim().is_empty())
                .map(|t| SecretString::from(t.to_owned()))
        })
        .collect();
    match read {
        Some(secrets) if !secrets.is_empty() && secrets.len() <= 4 => Some(secrets),
        _ => {
            f.fault(
                name,
                "invalid",
                "must be a list of 1 to 4 non-empty secrets, current first",
            );
            None
        }
    }
}

/// Which form a WhatsApp message is tried in first when both are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstForm {
    /// The template, because a walk-in customer has no open window.
    Template,
    /// Free form; the template follows when the window turns out closed.
    Interactive,
    /// Free form when the customer is known to have written within 24 hours, else the template. Costs a read for every message.
    Auto,
}

/// How the code to pay gets above a bill that brings no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QrHeader {
    /// The provider fetches it from the receipt page.
    Link,
    /// It is uploaded to the provider before the message.
    Upload,
}

/// How the tenant's customers are told.
#[derive(Clone)]
pub struct ChannelSettings {
    /// WhatsApp or SMS.
    pub kind: ChannelKind,
    /// The provider's account.
    pub account: Account,
    /// The sender's number or header.
    pub from: String,
    /// Template of the bill.
    pub invoice: Option<Template>,
    /// Template of a change of the order.
    pub status: Option<Template>,
    /// Template of the receipt link.
    pub receipt: Option<Template>,
    /// Template of a refund; the receipt's where there is none.
    pub refund: Option<Template>,
    /// Which form is tried first when both are possible.
    pub form: FirstForm,
    /// Puts the code to pay above bills without a header.
    pub qr_header: Option<QrHeader>,
    /// Send an SMS when WhatsApp has definitely failed.
    pub fallback_to_sms: bool,
}

/// How the tenant's customers pay.
#[derive(Clone)]
pub struct PaymentSettings {
    /// Mode.
    pub mode: PaymentMode,
    /// The gateway's account.
    pub account: Account,
    /// The WhatsApp payment configuration's name, in mode `payment_gateway`.
    pub configuration_name: Option<String>,
    /// Proves which bill a payment was for, where only a note can say it.
    pub proofs: BillProofs,
    /// Accounts that were used before, latest first. What was billed with them is heard of, asked about, canceled and refunded
    /// with them.
    pub previous: Vec<PreviousPayment>,
}

/// An account a tenant's bills were paid to before.
#[derive(Clone)]
pub struct PreviousPayment {
    /// How its bills were paid.
    pub mode: PaymentMode,
    /// Where.
    pub account: Account,
}

impl PaymentSettings {
    /// The settings as they were with the account before.
    #[must_use]
    pub fn before(&self, previous: &PreviousPayment) -> Self {
        Self {
            mode: previous.mode,
            account: previous.account.clone(),
            configuration_name: None,
            proofs: self.proofs.clone(),
            previous: Vec::new(),
        }
    }
}

/// What happens to money that comes after cancellation or expiry, or twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatePayment {
    /// It pays the order after all.
    Accept,
    /// It goes back.
    Refund,
    /// A person decides.
    Hold,
}

/// A merchant.
#[derive(Clone)]
pub struct Tenant {
    /// Its name in keys and URLs.
    pub id: TenantId,
    /// Its name for people.
    pub display_name: String,
    /// Where it is: there a phone number may be written without its country's code.
    pub country: Country,
    /// Its API keys.
    pub api_keys: Vec<ApiKey>,
    /// Secrets of receipt links, current first.
    pub receipt_secrets: Vec<SecretString>,
    /// How its customers are told.
    pub channel: ChannelSettings,
    /// How its customers pay.
    pub payment: PaymentSettings,
    /// Fulfilment an order goes to when it is paid.
    pub on_captured: Fulfilment,
    /// Late money.
    pub late_payment: LatePayment,
    /// What its customers write for STOP and START beside the usual words.
    pub consent_words: ConsentWords,
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenant")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Tenant {
    /// Reads a tenant document. `local` allows plain http to this machine, as the local stage needs.
    pub fn read(text: &str, local: bool) -> Result<Self, Vec<Fault>> {
        let document = json::parse(text.as_bytes()).map_err(|fault| vec![fault])?;
        json::read(&document, "", |f| read_tenant(f, local))
    }

    /// The API key that was presented, if it is one of this tenant's. Compared by hash, in constant time.
    #[must_use]
    pub fn api_key(&self, presented: &str) -> Option<&ApiKey> {
        let hash = sha256(presented.as_bytes());
        self.api_keys.iter().fold(None, |found, key| {
            if same_bytes(&key.sha256, &hash).is_some() {
                Some(key)
            } else {
                found
            }
        })
    }

    /// The tenant an API key names: `cb_<tenant_id>_<random>`.
    #[must_use]
    pub fn named_by(key: &str) -> Option<TenantId> {
        let (tenant, random) = key.strip_prefix("cb_")?.split_once('_')?;
        if random.len() < 8 {
            return None;
        }
        TenantId::parse(tenant).ok()
    }

    /// The secret new receipt links are made with.
    #[must_use]
    pub fn receipt_secret(&self) -> Option<&SecretString> {
        self.receipt_secrets.first()
    }
}

fn read_tenant(f: &mut Fields<'_>, local: bool) -> Option<Tenant> {
    let id = f.required("tenant_id").and_then(|_| {
        f.parsed("tenant_id", |text| {
            TenantId::parse(text).map_err(|_| TenantId::RULE)
        })
    });
    let display_name = f.required_text("display_name", 60);
    let country = match f.value("country") {
        None => Some(Country::INDIA),
        Some(_) => f.parsed("country", |text| Country::parse(&text)),
    };
    let api_keys = read_keys(f);
    let receipt_secrets = secrets(f, "receipt_secrets");
    if receipt_secrets
        .iter()
        .flatten()
        .any(|s| s.expose_secret().len() < 16)
    {
        f.fault(
            "receipt_secrets",
            "too_short",
            "each must have at least 16 characters",
        );
    }
    let channel = f
        .required("channel")
        .and_then(|_| f.object("channel", |c| read_channel(c, local)));
    let payment = f
        .required("payment")
        .and_then(|_| f.object("payment", |p| read_payment(p, local)));
    let on_captured = match f.value("on_captured") {
        None => Some(Fulfilment::Completed),
        Some(_) => f.parsed("on_captured", |text| match text.as_str() {
            "processing" => Ok(Fulfilment::Processing),
            "completed" => Ok(Fulfilment::Completed),
            _ => Err("processing or completed"),
        }),
    };
    let late_payment = match f.value("late_payment") {
        None => Some(LatePayment::Hold),
        Some(_) => f.parsed("late_payment", |text| match text.as_str() {
            "accept" => Ok(LatePayment::Accept),
            "refund" => Ok(LatePayment::Refund),
            "hold" => Ok(LatePayment::Hold),
            _ => Err("accept, refund or hold"),
        }),
    };
    let consent_words = match f.value("consent_words") {
        None => Some(ConsentWords::default()),
        Some(_) => f.object("consent_words", ConsentWords::read),
    };
    if let (Some(channel), Some(PaymentSection { mode, .. })) = (&channel, &payment)
        && channel.kind == ChannelKind::Sms
        && *mode == PaymentMode::PaymentGateway
    {
        f.fault(
            "payment",
            "impossible",
            "mode payment_gateway is a checkout inside WhatsApp; an SMS channel needs payment_link",
        );
    }
    if let (Some(channel), Some(PaymentSection { mode, .. })) = (&channel, &payment)
        && channel.fallback_to_sms
        && *mode == PaymentMode::PaymentGateway
    {
        f.fault(
            "payment",
            "impossible",
            "mode payment_gateway is a checkout inside WhatsApp; with fallback_to_sms the bill needs payment_link or upi_intent",
        );
    }
    let PaymentSection {
        mode,
        account,
        configuration_name,
        previous,
    } = payment?;
    let (id, receipt_secrets) = (id?, receipt_secrets?);
    let proofs = BillProofs::new(id.clone(), receipt_secrets.clone());
    Some(Tenant {
        id,
        display_name: display_name?,
        country: country?,
        api_keys: api_keys?,
        receipt_secrets,
        channel: channel?,
        payment: PaymentSettings {
            mode,
            account,
            configuration_name,
            proofs,
            previous,
        },
        on_captured: on_captured?,
        late_payment: late_payment?,
        consent_words: consent_words?,
    })
}

fn read_keys(f: &mut Fields<'_>) -> Option<Vec<ApiKey>> {
    f.required("api_keys")?;
    let list = f.list("api_keys")?;
    let mut faults = Vec::new();
    let keys = list
        .iter()
        .enumerate()
        .map(|(index, value)| {
            json::object(
                value,
                format!("{}/{index}", f.at("api_keys")),
                &mut faults,
                |k| {
                    let id = k.required_text("id", 64);
                    let sha256 = k.required("sha256").and_then(|_| {
                        k.parsed("sha256", |text| {
                            let mut hash = [0_u8; 32];
                            hex::decode_to_slice(text, &mut hash)
                                .map(|()| hash)
                                .map_err(|_| "64 hex digits, the SHA-256 of the key")
                        })
                    });
                    k.required("scopes");
                    let scopes = k.list("scopes").map(<[Value]>::to_vec).unwrap_or_default();
                    let scopes: Option<Vec<Scope>> = scopes
                        .iter()
                        .map(|scope| match scope.as_str() {
                            Some("invoices") => Some(Scope::Invoices),
                            Some("refunds") => Some(Scope::Refunds),
                            Some("reports") => Some(Scope::Reports),
                            _ => None,
                        })
                        .collect();
                    if scopes.is_none() {
                        k.fault(
                            "scopes",
                            "invalid",
                            "each must be invoices, refunds or reports",
                        );
                    }
                    Some(ApiKey {
                        id: id?,
                        sha256: sha256?,
                        scopes: scopes?,
                    })
                },
            )
        })
        .collect();
    f.extend(faults);
    keys
}

fn read_account<'a>(f: &mut Fields<'a>, vendor_field: &'a str, local: bool) -> Option<Account> {
    let vendor = f.required_text(vendor_field, 40);
    let base_url = match f.value("base_url") {
        None => Some(None),
        Some(_) => f
            .parsed("base_url", |text| base_url(&text, local))
            .map(Some),
    };
    let credentials = match f.required("credentials") {
        Some(Value::Object(object)) => Some(Credentials(object.clone())),
        Some(_) => {
            f.fault("credentials", "wrong_type", "must be an object");
            None
        }
        None => None,
    };
    Some(Account {
        vendor: vendor?,
        base_url: base_url?,
        credentials: credentials?,
    })
}

/// https only, except to this machine in the local stage. The trailing slash is dropped.
fn base_url(text: &str, local: bool) -> Result<String, &'static str> {
    const RULE: &str =
        "an https URL without query or fragment (http to loopback only in the local stage)";
    let plain = text.trim_end_matches('/');
    let rest = match (
        plain.strip_prefix("https://"),
        plain.strip_prefix("http://"),
    ) {
        (Some(rest), _) => rest,
        (None, Some(rest)) if local && loopback(rest) => rest,
        _ => return Err(RULE),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') || plain.contains(['?', '#', ' ', '\\']) {
        return Err(RULE);
    }
    Ok(plain.to_owned())
}

fn loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = if let Some(v6) = authority.strip_prefix('[') {
        v6.split(']').next().unwrap_or_default()
    } else {
        authority.split(':').next().unwrap_or_default()
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn read_channel(c: &mut Fields<'_>, local: bool) -> Option<ChannelSettings> {
    let kind = c.required("kind").and_then(|_| {
        c.parsed("kind", |text| match text.as_str() {
            "whatsapp" => Ok(ChannelKind::WhatsApp),
            "sms" => Ok(ChannelKind::Sms),
            _ => Err("whatsapp or sms"),
        })
    });
    let account = read_account(c, "provider", local);
    let from = c.required_text("from", 40);
    let templates = c.object("templates", |t| {
        Some((
            read_template(t, "invoice", &[]),
            read_template(t, "status", &[]),
            read_template(t, "receipt", &[Variable::ReceiptUrl]),
            read_template(t, "refund", &[Variable::Amount, Variable::ReceiptUrl]),
        ))
    });
    let (invoice, status, receipt, refund) = templates.unwrap_or_default();
    let form = match c.value("form") {
        None => Some(FirstForm::Template),
        Some(_) => c.parsed("form", |text| match text.as_str() {
            "template" => Ok(FirstForm::Template),
            "interactive" => Ok(FirstForm::Interactive),
            "auto" => Ok(FirstForm::Auto),
            _ => Err("template, interactive or auto"),
        }),
    };
    let qr_header = match c.value("qr_header") {
        None => Some(None),
        Some(_) => c.parsed("qr_header", |text| match text.as_str() {
            "link" => Ok(Some(QrHeader::Link)),
            "upload" => Ok(Some(QrHeader::Upload)),
            _ => Err("link or upload"),
        }),
    };
    let fallback_to_sms = c.boolean("fallback_to_sms").unwrap_or(false);
    if fallback_to_sms && kind == Some(ChannelKind::Sms) {
        c.fault(
            "fallback_to_sms",
            "impossible",
            "an SMS channel has nothing to fall back from",
        );
    }
    Some(ChannelSettings {
        kind: kind?,
        account: account?,
        from: from?,
        invoice,
        status,
        receipt,
        refund,
        form: form?,
        qr_header: qr_header?,
        fallback_to_sms,
    })
}

fn read_template<'a>(t: &mut Fields<'a>, name: &'a str, default: &[Variable]) -> Option<Template> {
    t.value(name)?;
    t.object(name, |f| {
        let template = f.required_text("name", 512);
        let language = f.required_text("language", 20);
        let parameters = match f.value("parameters") {
            None => Some(default.to_vec()),
            Some(value) => serde_json::from_value::<Vec<Variable>>(value.clone()).ok(),
        };
        let media_header = f.boolean("media_header").unwrap_or(false);
        let standard_picture = f.text("standard_picture", 2_048);
        if let Some(link) = &standard_picture {
            if !link.starts_with("https://") {
                f.fault("standard_picture", "invalid", "must be an https link");
            }
            if !media_header {
                f.fault("standard_picture", "impossible", "has no place in a template without media_header");
            }
        }
        if parameters.is_none() {
            f.fault(
                "parameters",
                "invalid",
                "must be a list of shop, customer_name, reference_id, amount, receipt_url, payment_id, status",
            );
        }
        Some(Template { name: template?, language: language?, parameters: parameters?, media_header, standard_picture })
    })
}

struct PaymentSection {
    mode: PaymentMode,
    account: Account,
    configuration_name: Option<String>,
    previous: Vec<PreviousPayment>,
}

fn read_mode(p: &mut Fields<'_>) -> Option<PaymentMode> {
    p.parsed("mode", |text| match text.as_str() {
        "payment_gateway" => Ok(PaymentMode::PaymentGateway),
        "payment_link" => Ok(PaymentMode::PaymentLink),
        "upi_intent" => Ok(PaymentMode::UpiIntent),
        _ => Err("payment_gateway, payment_link or upi_intent"),
    })
}

/// So many accounts are kept behind the current one. Money comes late by days, refunds by months; nobody moves more often.
const MOST_PREVIOUS: usize = 4;

/// `[{"gateway", "mode"?, "base_url"?, "credentials"}]`, latest first; the mode is the current one where none is said.
fn read_previous(
    p: &mut Fields<'_>,
    mode: Option<PaymentMode>,
    local: bool,
) -> Option<Vec<PreviousPayment>> {
    if p.value("previous").is_none() {
        return Some(Vec::new());
    }
    let list = p.list("previous")?.to_vec();
    if list.len() > MOST_PREVIOUS {
        let detail = format!(
            "has {} accounts; at most {MOST_PREVIOUS} are kept",
            list.len()
        );
        p.fault("previous", "too_many", detail);
    }
    let mut faults = Vec::new();
    // All of them, so that each one's faults are told.
    let previous: Vec<Option<PreviousPayment>> = list
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let pointer = format!("{}/{index}", p.at("previous"));
            json::object(value, pointer, &mut faults, |f| {
                let said = f.value("mode").is_some();
                let own = read_mode(f);
                let account = read_account(f, "gateway", local);
                Some(PreviousPayment {
                    mode: if said { own? } else { mode? },
                    account: account?,
                })
            })
        })
        .collect();
    p.extend(faults);
    previous.into_iter().collect()
}

fn read_payment(p: &mut Fields<'_>, local: bool) -> Option<PaymentSection> {
    let mode = p.required("mode").and_then(|_| read_mode(p));
    let account = read_account(p, "gateway", local);
    let configuration_name = p.text("configuration_name", 60);
    if mode == Some(PaymentMode::PaymentGateway) && configuration_name.is_none() {
        p.fault(
            "configuration_name",
            "missing",
            "is required in mode payment_gateway",
        );
    }
    let previous = read_previous(p, mode, local);
    Some(PaymentSection {
        mode: mode?,
        account: account?,
        configuration_name,
        previous: previous?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "tenant_id": "acme", "display_name": "Acme Stores",
            "api_keys": [{"id": "pos-1", "sha256": hex::encode(sha256(b"cb_acme_0123456789abcdef")), "scopes": ["invoices", "refunds"]}],
            "receipt_secrets": ["0123456789abcdef", "fedcba9876543210"],
            "channel": {"kind": "whatsapp", "provider": "meta", "from": "+918045210677",
                "credentials": {"phone_number_id": "1"},
                "templates": {"invoice": {"name": "bill", "language": "en"}}, "fallback_to_sms": false},
            "payment": {"mode": "payment_link", "gateway": "razorpay", "credentials": {"key_id": "x"}},
            "on_captured": "completed", "late_payment": "hold"
        })
    }

    fn faults(doc: &Value, local: bool) -> Vec<(String, &'static str)> {
        match Tenant::read(&doc.to_string(), local) {
            Ok(_) => vec![],
            Err(faults) => faults.into_iter().map(|f| (f.pointer, f.code)).collect(),
        }
    }

    #[test]
    fn earlier_accounts_are_read() {
        let mut doc = document();
        let before = json!({"gateway": "payu", "credentials": {"key": "k1"}});
        let with_mode = json!({"gateway": "razorpay", "mode": "payment_link", "base_url": "https://uat.example",
            "credentials": {"key_id": "x"}});
        doc["payment"]["previous"] = json!([before, with_mode]);
        let payment = Tenant::read(&doc.to_string(), false).unwrap().payment;
        let [payu, same] = &payment.previous[..] else {
            panic!("two")
        };
        assert_eq!(
            (payu.mode, payu.account.vendor.as_str()),
            (PaymentMode::PaymentLink, "payu")
        );
        assert_eq!(same.account.mark(), payment.account.mark());
        assert_ne!(payu.account.mark(), payment.account.mark());
        assert_eq!(payment.account.mark().map(|mark| mark.len()), Some(12));

        doc["payment"]["previous"] =
            json!([{"gateway": "payu", "mode": "cash", "credentials": {}, "x": 1}, 7]);
        let seen = faults(&doc, false);
        for expected in [
            ("/payment/previous/0/mode", "invalid"),
            ("/payment/previous/0/x", "unknown_field"),
            ("/payment/previous/1", "wrong_type"),
        ] {
            assert!(
                seen.contains(&(expected.0.to_owned(), expected.1)),
                "{expected:?} in {seen:?}"
            );
        }
        doc["payment"]["previous"] = json!(vec![before; 5]);
        assert!(faults(&doc, false).contains(&("/payment/previous".to_owned(), "too_many")));
    }

    #[test]
    fn the_documented_form_is_read() {
        let tenant = Tenant::read(&document().to_string(), false).unwrap();
        assert_eq!(
            tenant.api_key("cb_acme_0123456789abcdef").unwrap().id,
            "pos-1"
        );
        assert!(tenant.api_key("cb_acme_0123456789abcdeF").is_none());
        assert_eq!(tenant.channel.invoice.as_ref().unwrap().name, "bill");
        assert!(!format!("{tenant:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn a_key_names_its_tenant() {
        assert_eq!(
            Tenant::named_by("cb_acme_0123_456789").unwrap().as_str(),
            "acme"
        );
        for bad in [
            "",
            "cb_",
            "cb_acme",
            "cb_acme_short",
            "xx_acme_0123456789",
            "cb__0123456789",
        ] {
            assert!(Tenant::named_by(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn plain_http_only_to_this_machine_in_the_local_stage() {
        let mut doc = document();
        for (url, local, good) in [
            ("http://127.0.0.1:9000/meta", true, true),
            ("http://localhost:9000/", true, true),
            ("http://[::1]:9000", true, true),
            ("http://127.0.0.1:9000/meta", false, false),
            ("http://10.0.0.1/", true, false),
            ("http://127.0.0.1.evil.example/", true, false),
            ("http://127.0.0.1@evil.example/", true, false),
            ("https://api.in.exotel.com", false, true),
            ("https://user@api.example", false, false),
            ("https://a.example/?q=1", false, false),
            ("ftp://a.example", true, false),
        ] {
            doc["payment"]["base_url"] = json!(url);
            assert_eq!(faults(&doc, local).is_empty(), good, "{url}");
        }
    }

    #[test]
    fn an_impossible_combination_is_refused_here() {
        let mut doc = document();
        doc["channel"]["kind"] = json!("sms");
        doc["payment"]["mode"] = json!("payment_gateway");
        let seen = faults(&doc, false);
        assert!(
            seen.contains(&("/payment".into(), "impossible")),
            "{seen:?}"
        );
        assert!(
            seen.contains(&("/payment/configuration_name".into(), "missing")),
            "{seen:?}"
        );
    }
}
