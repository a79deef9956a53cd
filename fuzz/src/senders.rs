//! Who sends webhooks: every registered gateway and messaging provider, with a tenant whose secrets are known here, and how each
//! of them signs. The signing is written anew from the vendors' documents; nothing of the connectors is called for it.

use std::sync::LazyLock;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chatbill_domain::connector::Webhooks;
use chatbill_domain::signature::{hmac_sha256, sha512_hex};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::webhook::RawWebhook;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};
use serde_json::{Value, json};

/// What the tenant and its vendor share, and no input knows.
pub const SECRET: &str = "9f1c62d07be84a35b1e6fd2a7c3480e5";
/// The tenant's receipt secret, which bills' proofs are made with.
pub const RECEIPT_SECRET: &str = "0b7d4e9a31f5486c8d2e6a90c4b1f753";
/// BillDesk's encryption key.
pub const ENCRYPTION_KEY: &str = "c5e0a9817f3b42d6a8e1907f4d2b6c3a";
/// The name of the environment variable that says whose webhooks a target reads.
pub const SELECTION: &str = "CHATBILL_FUZZ_SENDER";

/// PayU's name of the merchant, which stands in its pages and is no secret.
pub const PAYU_KEY: &str = "gtKFFx";
/// What PayU hashes, "Hash generation", the reverse hash: status first, key last.
const PAYU_HASHED: [&str; 10] = [
    "udf5",
    "udf4",
    "udf3",
    "udf2",
    "udf1",
    "email",
    "firstname",
    "productinfo",
    "amount",
    "txnid",
];

/// One sender as one tenant has it. Two settings of the same vendor that read differently are two senders.
pub struct Sender {
    /// `razorpay`, `razorpay+native`.
    pub name: String,
    /// The vendor.
    pub vendor: &'static str,
    /// Its connector.
    pub hooks: Box<dyn Webhooks>,
    /// It holds money; only then may it prove a payment.
    pub is_gateway: bool,
    /// Each webhook proves itself by a signature over its content. Others carry a secret that is good for any content.
    pub signs_content: bool,
    sign: fn(&[u8]) -> RawWebhook,
}

impl Sender {
    /// A genuine webhook with this content.
    #[must_use]
    pub fn signed(&self, content: &[u8]) -> RawWebhook {
        (self.sign)(content)
    }
}

/// Every sender there is. A registered vendor that nobody wrote down here is a panic: it would not be fuzzed.
pub static SENDERS: LazyLock<Vec<Sender>> = LazyLock::new(|| {
    let gateways = chatbill_gateways::names().into_iter().flat_map(|name| {
        settings_of_gateway(name)
            .into_iter()
            .map(move |(variant, payment, sign)| Sender {
                name: format!("{name}{variant}"),
                vendor: name,
                hooks: chatbill_gateways::open(&tenant(&meta(), &payment))
                    .unwrap_or_else(|faults| panic!("{name}{variant}: {faults:?}")),
                is_gateway: true,
                signs_content: true,
                sign,
            })
    });
    let channels = chatbill_channels::names().into_iter().map(|name| {
        let (channel, signs_content, sign) = settings_of_channel(name);
        Sender {
            name: name.to_owned(),
            vendor: name,
            hooks: chatbill_channels::open(&tenant(&channel, &razorpay("payment_gateway")))
                .unwrap_or_else(|faults| panic!("{name}: {faults:?}")),
            is_gateway: false,
            signs_content,
            sign,
        }
    });
    gateways.chain(channels).collect()
});

/// The sender of this name.
#[must_use]
pub fn named(name: &str) -> &'static Sender {
    SENDERS
        .iter()
        .find(|sender| sender.name == name)
        .unwrap_or_else(|| panic!("there is no sender {name}"))
}

/// The sender that the environment names.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "libFuzzer takes the command line, and this is no function with settings"
)]
pub fn selected() -> &'static Sender {
    static SELECTED: LazyLock<&'static Sender> = LazyLock::new(|| {
        let name = std::env::var(SELECTION).unwrap_or_else(|_| {
            panic!("{SELECTION} must name a sender: cargo xtask fuzz lists them")
        });
        named(&name)
    });
    &SELECTED
}

/// A tenant of these settings.
#[must_use]
pub fn document(channel: &Value, payment: &Value) -> Value {
    json!({
        "tenant_id": "acme", "display_name": "Acme Stores",
        "api_keys": [{"id": "pos-1", "sha256": "0".repeat(64), "scopes": ["invoices"]}],
        "receipt_secrets": [RECEIPT_SECRET],
        "channel": channel,
        "payment": payment,
    })
}

fn tenant(channel: &Value, payment: &Value) -> Tenant {
    Tenant::read(&document(channel, payment).to_string(), false)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

type Signing = fn(&[u8]) -> RawWebhook;

/// The settings of a gateway that make a difference to its webhooks.
#[must_use]
pub fn settings_of_gateway(name: &str) -> Vec<(&'static str, Value, Signing)> {
    match name {
        "razorpay" => vec![
            ("", razorpay("payment_link"), by_razorpay),
            ("+native", razorpay("payment_gateway"), by_razorpay),
        ],
        "payu" => vec![("", payu(), by_payu)],
        "zaakpay" => vec![
            ("", zaakpay(), by_zaakpay),
            ("+returned", zaakpay(), returned_by_zaakpay),
        ],
        "billdesk" => vec![
            ("", billdesk("hmac"), by_billdesk),
            ("+jose", billdesk("jose"), encrypted_by_billdesk),
        ],
        other => panic!(
            "{other} is registered, but its webhooks are not fuzzed: write down how it signs"
        ),
    }
}

/// The settings of a messaging provider, whether it signs what it sends, and how.
#[must_use]
pub fn settings_of_channel(name: &str) -> (Value, bool, Signing) {
    let account = |credentials: Value| json!({"kind": "whatsapp", "provider": name, "from": "+918045210677", "credentials": credentials});
    match name {
        "meta" => (meta(), true, by_meta),
        "exotel" => (
            account(
                json!({"account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": SECRET}),
            ),
            false,
            by_token_in_query,
        ),
        "kaleyra" => (
            account(json!({"sid": "HXIN17787IN", "api_key": "key", "callback_token": SECRET})),
            false,
            by_token_in_query,
        ),
        other => panic!(
            "{other} is registered, but its webhooks are not fuzzed: write down how it signs"
        ),
    }
}

fn meta() -> Value {
    json!({
        "kind": "whatsapp", "provider": "meta", "from": "+918045210677",
        "credentials": {"phone_number_id": "106540352242922", "waba_id": "102290129340398", "access_token": "EAAtoken",
                        "app_secrets": [SECRET], "verify_token": SECRET},
    })
}

fn razorpay(mode: &str) -> Value {
    json!({
        "mode": mode, "gateway": "razorpay", "configuration_name": "shop-razorpay",
        "credentials": {"key_id": "rzp_test_1", "key_secret": "s3cret", "webhook_secrets": [SECRET]},
    })
}

fn payu() -> Value {
    json!({
        "mode": "payment_link", "gateway": "payu",
        "credentials": {"key": PAYU_KEY, "salts": [SECRET], "merchant_id": "8237550", "callback_token": SECRET,
                        "client_id": "client-1", "client_secret": "s3cret"},
    })
}

fn zaakpay() -> Value {
    json!({
        "mode": "payment_link", "gateway": "zaakpay",
        "credentials": {"merchant_identifier": "fb2016ffd3a64b2994a6289dc2b671a4", "secret_keys": [SECRET],
                        "buyer_email": "bills@shop.example"},
    })
}

fn billdesk(security: &str) -> Value {
    let mut credentials = json!({
        "merchant_id": "BDMERCID", "client_id": "bdmerc1", "security": security, "signing_key": SECRET,
        "vpa": "billdesk@hdfcbank", "merchant_category": "5411", "merchant_name": "Acme Stores",
    });
    if security == "jose" {
        credentials["signing_key_id"] = json!("sigKid1");
        credentials["encryption_key"] = json!(ENCRYPTION_KEY);
        credentials["encryption_key_id"] = json!("encKid1");
    }
    json!({"mode": "payment_link", "gateway": "billdesk", "credentials": credentials})
}

fn hex_mac(content: &[u8]) -> String {
    hex::encode(hmac_sha256(SECRET.as_bytes(), content))
}

fn with_header(name: &str, value: String, body: Vec<u8>) -> RawWebhook {
    RawWebhook {
        headers: vec![(name.to_owned(), value)],
        query: vec![],
        body,
    }
}

fn posted_form(pairs: &[(Vec<u8>, Vec<u8>)]) -> RawWebhook {
    let pair = |(name, value): &(Vec<u8>, Vec<u8>)| format!("{}={}", escaped(name), escaped(value));
    let body = pairs.iter().map(pair).collect::<Vec<_>>().join("&");
    let kind = "application/x-www-form-urlencoded".to_owned();
    with_header("content-type", kind, body.into_bytes())
}

fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

/// The pairs of a form, decoded.
#[must_use]
pub fn pairs_of(form: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |text: &[u8]| -> Vec<u8> {
        let blanks: Vec<u8> = text
            .iter()
            .map(|b| if *b == b'+' { b' ' } else { *b })
            .collect();
        percent_decode(&blanks).collect()
    };
    form.split(|b| *b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.iter().position(|b| *b == b'=') {
            Some(at) => (decoded(&pair[..at]), decoded(&pair[at + 1..])),
            None => (decoded(pair), Vec::new()),
        })
        .collect()
}

fn by_razorpay(content: &[u8]) -> RawWebhook {
    with_header("x-razorpay-signature", hex_mac(content), content.to_vec())
}

fn by_meta(content: &[u8]) -> RawWebhook {
    with_header(
        "x-hub-signature-256",
        format!("sha256={}", hex_mac(content)),
        content.to_vec(),
    )
}

/// The content is a form without `key` and `hash`; of a hashed field that is there twice the first counts.
fn by_payu(content: &[u8]) -> RawWebhook {
    let ours = |name: &[u8]| {
        name == b"status" || PAYU_HASHED.iter().any(|hashed| hashed.as_bytes() == name)
    };
    let never: [&[u8]; 4] = [b"key", b"hash", b"additionalCharges", b"additional_charges"];
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in pairs_of(content) {
        let twice = ours(&name) && pairs.iter().any(|(known, _)| *known == name);
        if !twice && !never.contains(&name.as_slice()) {
            pairs.push((name, value));
        }
    }
    pairs.push((b"key".to_vec(), PAYU_KEY.into()));
    let of = |name: &str| -> &[u8] {
        pairs
            .iter()
            .find(|(known, _)| known == name.as_bytes())
            .map_or(b"", |(_, value)| value)
    };
    let mut message = [SECRET.as_bytes(), b"|", of("status"), b"|||||"].concat();
    for name in PAYU_HASHED.iter().chain(&["key"]) {
        message.push(b'|');
        message.extend(of(name));
    }
    let hash = sha512_hex(&message);
    pairs.push((b"hash".to_vec(), hash.into_bytes()));
    posted_form(&pairs)
}

/// The content is what `txnData` says.
fn by_zaakpay(content: &[u8]) -> RawWebhook {
    posted_form(&[
        (b"txnData".to_vec(), content.to_vec()),
        (b"checksum".to_vec(), hex_mac(content).into_bytes()),
    ])
}

/// The content is a form; the fields that a browser brings back count, in Zaakpay's sequence.
fn returned_by_zaakpay(content: &[u8]) -> RawWebhook {
    const SEQUENCE: [&str; 20] = [
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
    let given = pairs_of(content);
    let mut pairs = Vec::new();
    for name in SEQUENCE {
        let value = given.iter().find(|(known, _)| known == name.as_bytes());
        // Without these two it is nothing that a browser brought back.
        if value.is_some() || matches!(name, "orderId" | "responseCode") {
            let value = value.map(|(_, value)| value.clone()).unwrap_or_default();
            pairs.push((name.as_bytes().to_vec(), value));
        }
    }
    let mut message = Vec::new();
    for (name, value) in &pairs {
        message.extend([name.as_slice(), b"=", value, b"&"].concat());
    }
    pairs.push((b"checksum".to_vec(), hex_mac(&message).into_bytes()));
    posted_form(&pairs)
}

fn by_billdesk(content: &[u8]) -> RawWebhook {
    with_header(
        "content-type",
        "application/jose".to_owned(),
        jws(br#"{"alg":"HS256","clientid":"bdmerc1"}"#, content).into_bytes(),
    )
}

fn encrypted_by_billdesk(content: &[u8]) -> RawWebhook {
    let header = br#"{"alg":"dir","enc":"A256GCM","kid":"encKid1","clientid":"bdmerc1"}"#;
    by_billdesk(jwe(header, *b"unique iv 01", content).as_bytes())
}

/// RFC 7515 with HMAC-SHA256 under [`SECRET`], whatever the header says.
#[must_use]
pub fn jws(header: &[u8], payload: &[u8]) -> String {
    let input = format!("{}.{}", base64url(header), base64url(payload));
    let mac = hmac_sha256(SECRET.as_bytes(), input.as_bytes());
    format!("{input}.{}", base64url(&mac))
}

/// RFC 7516 with A256GCM under [`ENCRYPTION_KEY`], whatever the header says.
#[must_use]
pub fn jwe(header: &[u8], iv: [u8; 12], payload: &[u8]) -> String {
    let header = base64url(header);
    let message = Payload {
        msg: payload,
        aad: header.as_bytes(),
    };
    let sealed = Aes256Gcm::new_from_slice(ENCRYPTION_KEY.as_bytes())
        .expect("a key of 32 bytes")
        .encrypt(&Nonce::from(iv), message)
        .expect("a message of this size");
    let (text, tag) = sealed.split_at(sealed.len() - 16);
    format!(
        "{header}..{}.{}.{}",
        base64url(&iv),
        base64url(text),
        base64url(tag)
    )
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The content is a webhook as [`crate::webhooks::raw`] reads it; the secret is put into its address.
fn by_token_in_query(content: &[u8]) -> RawWebhook {
    let mut raw = crate::webhooks::raw(content);
    raw.headers.clear();
    raw.query.retain(|(name, _)| name != "token");
    raw.query.push(("token".to_owned(), SECRET.to_owned()));
    raw
}
