//! Where the fuzzer starts: the vendors' samples of `shared/*/fixtures`, the trigger payloads of `events/`, and for each kind of
//! input a few written here, so that it need not guess what a name or a signature looks like.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chatbill_domain::ids::ReferenceId;
use chatbill_domain::money::Paise;
use chatbill_domain::payment::{PROOF_NOTE, REFERENCE_NOTE};
use chatbill_domain::proof::BillProofs;
use chatbill_domain::token::{ReceiptToken, ShortCode};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::readers::order;
use crate::senders::{
    PAYU_KEY, RECEIPT_SECRET, SECRET, Sender, document, settings_of_channel, settings_of_gateway,
};
use crate::webhooks::written;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder in a sequence that does not depend on the machine.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder's entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

fn json_of(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// What this sender could say: its samples, those that name one of our bills, and the bodies of `events/pg-webhook`.
#[must_use]
pub fn contents(sender: &Sender) -> Vec<Vec<u8>> {
    let kind = if sender.is_gateway {
        "gateways"
    } else {
        "channels"
    };
    let folder = root()
        .join("shared")
        .join(kind)
        .join("fixtures")
        .join(sender.vendor);
    let mut found = Vec::new();
    for file in files(&folder) {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match json_of(&file) {
            Some(_) if name == "index.json" => {}
            Some(vectors) if name == "signatures.json" => {
                let mut bodies = Vec::new();
                texts(&vectors, "raw_body", &mut bodies);
                found.extend(bodies.into_iter().map(String::into_bytes));
            }
            _ => found.push(fs::read(&file).expect("a fixture")),
        }
    }
    for file in files(&root().join("events/pg-webhook")) {
        let event = json_of(&file).unwrap_or_default();
        let ours = event["path"].as_str().or(event["rawPath"].as_str());
        if let (true, Some(body)) = (
            ours.is_some_and(|path| path.contains(&format!("/{}/", sender.vendor))),
            event["body"].as_str(),
        ) {
            let decoded = STANDARD
                .decode(body)
                .ok()
                .filter(|_| event["isBase64Encoded"] == true);
            found.push(decoded.unwrap_or_else(|| body.as_bytes().to_vec()));
        }
    }
    found.extend(own(sender));
    found
}

fn texts(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == name => found.push(text.clone()),
                    other => texts(other, name, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| texts(value, name, found)),
        _ => {}
    }
}

/// Webhooks about a bill of ours, in the shape of the samples beside them.
fn own(sender: &Sender) -> Vec<Vec<u8>> {
    let key = order();
    let reference = key.reference.as_str();
    let amount = Paise::new(85_000).expect("an amount");
    let proofs = BillProofs::new(key.tenant.clone(), vec![SecretString::from(RECEIPT_SECRET)]);
    let proof = proofs.issue(&key.reference, amount).expect("a proof");
    let mark = proofs.named_mark(&key.reference).expect("a mark");
    let json = |value: Value| value.to_string().into_bytes();
    match sender.name.as_str() {
        "razorpay" | "razorpay+native" => {
            let payment = json!({"entity": {"id": "pay_1", "amount": 85000, "currency": "INR", "status": "captured",
                "captured": true, "method": "upi", "created_at": 1795305600,
                "notes": {REFERENCE_NOTE: reference, PROOF_NOTE: proof}}});
            let refund = json!({"entity": {"id": "rfnd_1", "payment_id": "pay_1", "amount": 10000, "currency": "INR",
                "status": "processed", "notes": {REFERENCE_NOTE: reference, "chatbill_refund": "k7m2p9q4"}}});
            vec![
                json(json!({"event": "payment.captured", "payload": {"payment": payment}})),
                json(json!({"event": "payment.failed", "payload": {"payment": payment}})),
                json(json!({"event": "refund.processed", "payload": {"payment": payment, "refund": refund}})),
                json(json!({"event": "order.paid", "payload": {"payment": payment,
                    "order": {"entity": {"receipt": reference, "notes": {REFERENCE_NOTE: reference}}}}})),
                json(json!({"event": "payment_link.paid", "payload": {"payment": payment,
                    "payment_link": {"entity": {"id": "plink_1", "reference_id": reference}}}})),
                json(json!({"event": "payment_link.paid", "payload": {"payment": payment,
                    "payment_link": {"entity": {"id": "plink_1", "reference_id": reference,
                        "notes": {REFERENCE_NOTE: reference, "chatbill_mark": mark}}}}})),
                json(json!({"event": "payment_link.expired",
                    "payload": {"payment_link": {"entity": {"id": "plink_1", "reference_id": reference}}}})),
            ]
        }
        "payu" => vec![
            b"mihpayid=403993715530075847&mode=UPI&status=success&unmappedstatus=captured&txnid=BM345A-12&amount=850.00&addedon=2026-11-22+05%3A31%3A00&productinfo=Bill&firstname=Pallavi&udf1=BM345A-12&error=E000".to_vec(),
            b"mihpayid=1&status=failure&unmappedstatus=failed&txnid=BM345A-12&amount=850&field9=Declined&udf5=|".to_vec(),
        ],
        "zaakpay" => ["100", "101", "102"]
            .map(|code| {
                let named = ours_at(sender, &key.reference);
                json(json!({"merchantIdentifier": "fb2016ffd3a64b2994a6289dc2b671a4",
                    "txns": [{"amount": "85000", "orderId": named, "pgTransId": "ZP5cc", "paymentMode": "UPI",
                              "responseCode": code, "productDescription": reference, "pgTransTime": "11/22/2026 05:31:00"}],
                    "refunds": [{"orderId": named, "amount": "10000", "refundId": "1"}]}))
            })
            .into(),
        "zaakpay+returned" => vec![format!(
            "amount=85000&orderId={}&responseCode=100&pgTransId=ZP5cc&paymentMode=UPI&pgTransTime=11%2F22%2F2026+05:31:00",
            ours_at(sender, &key.reference)
        )
        .into_bytes()],
        "billdesk" | "billdesk+jose" => ["0300", "0399", "0002"]
            .map(|status| {
                json(json!({"objectid": "transaction", "mercid": "BDMERCID", "transactionid": "X7890477676443",
                    "orderid": ours_at(sender, &key.reference), "amount": "850.00", "currency": "356", "auth_status": status,
                    "transaction_error_code": "TRS0000", "transaction_error_desc": "Transaction Successful",
                    "transaction_date": "2026-11-22T05:31:00+05:30", "payment_method_type": "upi",
                    "additional_info": {"additional_info7": reference}, "wa_txnid": reference}))
            })
            .into(),
        "kaleyra" => vec![
            json(json!({"event": "message", "message_id": "5d34d9e5:0", "tag": "1:BM345A-12:invoice.2:3", "status": "delivered"})),
            json(json!({"event": "payment", "reference_id": reference, "status": "captured", "amount": "850.00",
                "currency": "INR", "transaction_id": "order_1"})),
            b"?event=message\n?tag=1:BM345A-12:paid:1\n\nstatus=failed&code=131047&detail=window".to_vec(),
            json(json!({"event": "inbound", "from": "919876543210", "body": "STOP", "created_at": "1795305600"})),
        ],
        "exotel" => vec![
            b"SmsSid=1&Status=sent&DetailedStatus=DELIVERED_TO_HANDSET&To=09876543210&CustomField=1:BM345A-12:paid:1".to_vec(),
        ],
        _ => vec![],
    }
}

/// What the gateway calls the order of this reference.
fn ours_at(sender: &Sender, reference: &ReferenceId) -> String {
    let (_, payment, _) = settings_of_gateway(sender.vendor).swap_remove(0);
    let (channel, _, _) = settings_of_channel("meta");
    let text = document(&channel, &payment).to_string();
    let tenant = chatbill_domain::tenant::Tenant::read(&text, false).expect("a tenant");
    let gateway = chatbill_gateways::open(&tenant).expect("a gateway");
    gateway.order_id(reference).to_string()
}

/// Genuine webhooks where a signature is over their content, so that seeing one is no secret; else the bare content.
#[must_use]
pub fn forged(sender: &Sender) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for content in contents(sender) {
        if sender.signs_content {
            found.push(written(&sender.signed(&content)));
        }
        found.push(
            [
                b"?token=guess\nx-chatbill-token: guess\ncontent-type: application/json\n\n",
                content.as_slice(),
            ]
            .concat(),
        );
        found.push(
            [
                b"content-type: application/x-www-form-urlencoded\n\n",
                content.as_slice(),
            ]
            .concat(),
        );
    }
    if sender.vendor == "payu" {
        let refund = json!({"key": PAYU_KEY, "action": "refund", "merchantTxnId": "BM345A-12", "mihpayid": "1",
            "amt": "100.00", "status": "success", "request_id": "7", "token": "k7m2p9q4r6s8t3v5w2x7"});
        for token in [SECRET, "guess"] {
            let hook = format!("?token={token}\ncontent-type: application/json\n\n{refund}");
            found.push(hook.into_bytes());
        }
    }
    if sender.vendor == "meta" {
        found.push(
            b"?hub.mode=subscribe\n?hub.verify_token=guess\n?hub.challenge=1158201444\n\n".to_vec(),
        );
    }
    found
}

/// Bills: the bodies of `events/create-invoice`.
#[must_use]
pub fn bills() -> Vec<Vec<u8>> {
    let bodies = files(&root().join("events/create-invoice"))
        .into_iter()
        .filter_map(|file| {
            let event = json_of(&file)?;
            let body = event["body"].as_str()?.as_bytes().to_vec();
            if event["isBase64Encoded"] == true {
                STANDARD.decode(body).ok()
            } else {
                Some(body)
            }
        });
    bodies.collect()
}

/// Tenants: the documented example, and one with each vendor's credentials.
#[must_use]
pub fn tenants() -> Vec<Vec<u8>> {
    let mut found = vec![fs::read(root().join("docs/tenant.example.json")).expect("the example")];
    for channel in chatbill_channels::names() {
        for gateway in chatbill_gateways::names() {
            for (_, payment, _) in settings_of_gateway(gateway) {
                let (channel, _, _) = settings_of_channel(channel);
                found.push(document(&channel, &payment).to_string().into_bytes());
            }
        }
    }
    let mut sms = document(
        &settings_of_channel("exotel").0,
        &settings_of_gateway("razorpay").swap_remove(0).1,
    );
    sms["channel"]["kind"] = json!("sms");
    sms["channel"]["credentials"]["sender"] = json!("ACMEST");
    sms["channel"]["credentials"]["dlt_entity_id"] = json!("1201159125000000001");
    sms["channel"]["credentials"]["dlt_template_ids"] = json!({"invoice": "1107160000000000001", "paid": "1107160000000000002",
        "status": {"id": "1107160000000000004", "text": "{#var#}: {#var#}", "variables": ["reference_id", "status"]}});
    found.push(sms.to_string().into_bytes());
    found
}

/// Receipt tokens, short codes and API keys, genuine and not.
#[must_use]
pub fn tokens() -> Vec<Vec<u8>> {
    let ours = SecretString::from(RECEIPT_SECRET);
    let theirs = SecretString::from("another secret");
    let mut found = vec![b"cb_acme_0123456789abcdef".to_vec()];
    for secret in [ours, theirs] {
        found.push(ReceiptToken::issue(&order(), &secret).into_bytes());
        found.push(ShortCode::issue(&order(), &secret).as_str().into());
    }
    found
}

/// UPI intents.
#[must_use]
pub fn intents() -> Vec<Vec<u8>> {
    vec![
        b"upi://pay?pa=shop@bank&pn=My%20Shop+Co&mc=5411&tr=T1&am=10.00&cu=INR&sign=a%2Bb%3d".to_vec(),
        b"upi://pay?pa=billdesk@hdfcbank&pn=Acme%20Stores&mc=5411&tr=XHD50477676443&tn=Pay&am=850.00&mam=850.00&cu=INR".to_vec(),
        b"UPI://pay?pa=shop%40hdfcbank&pn=Ram Stores&tn=50% off&am=850.00&cu=INR\n".to_vec(),
        b"upi://pay?pa=a@b&pa=c@d".to_vec(),
        b"upi://pay?&&pa=%ff".to_vec(),
    ]
}

/// Tags, message names, references, numbers, amounts, moments, words.
#[must_use]
pub fn words() -> Vec<Vec<u8>> {
    [
        "1:BM345A-12:invoice.2:3",
        "1:BM345A-12:paid:1",
        "1:BM345A-12:paid:00",
        "1:BM345A-12:status.10:4294967295",
        "refund.1",
        "BM345A-12",
        "+919876543210",
        "850.00",
        "92233720368547758.07",
        "2026-11-22T05:31:00+05:30",
        "STOP all!",
        "pay 98765 43210 (now) to pallavi@okbank\nor not",
        "x@pallavi@okbank",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// DLT texts with their values.
#[must_use]
pub fn templates() -> Vec<Vec<u8>> {
    let link = format!("https://shop.example/r/{}", "t".repeat(50));
    let mut found = vec![
        format!("{{#var#}} of {{#alphanumeric#}}: {{#var#}} Rs.{{#var#}} {{#url#}}\nCafé – ₹\nPallavi “Palu” Ś.\nBM345A-12\n840.00\n{link}").into_bytes(),
        "₹ ऑर्डर {#var#}: {#var#}\nशॉप\nX".into(),
        "{#var#}{#var#}\n🙂\n".into(),
    ];
    for kind in chatbill_domain::sms::Kind::ALL {
        let (text, variables) = kind.default_text();
        let values = vec!["x".repeat(40); variables.len()].join("\n");
        found.push(format!("{text}\n{values}").into_bytes());
    }
    found
}

/// Headers of tokens.
#[must_use]
pub fn headers() -> Vec<Vec<u8>> {
    let outer = r#"{"alg":"HS256","clientid":"bdmerc1"}"#;
    let inner = r#"{"alg":"dir","enc":"A256GCM","kid":"encKid1","clientid":"bdmerc1"}"#;
    let mut found: Vec<Vec<u8>> = [
        (outer, inner),
        (r#"{"alg":"none"}"#, inner),
        (r#"{"alg":"HS256","crit":["exp"]}"#, inner),
        (r#"{"alg":"HS256","b64":false}"#, inner),
        (outer, r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#),
        (outer, r#"{"alg":"A256KW","enc":"A128CBC-HS256"}"#),
    ]
    .map(|(outer, inner)| format!("{outer}\n{inner}\n{{\"mercid\":\"BDMERCID\"}}").into_bytes())
    .into();
    let folder = root().join("shared/gateways/fixtures/billdesk/signatures.json");
    let mut tokens = Vec::new();
    texts(&json_of(&folder).unwrap_or_default(), "token", &mut tokens);
    found.extend(tokens.into_iter().map(String::into_bytes));
    found
}

/// JSON with whole and half characters.
#[must_use]
pub fn cut_texts() -> Vec<Vec<u8>> {
    let escaped = [
        r#"{"event":"payment.failed","error_description":"Card \ud83c declined"}"#,
        r#"{"\ud83c":"\udf89\uD83C \ud83c\udf89 \\ud83c \\\ud83c","a":["\ud83c"]}"#,
        r#"{"a":"\ud83c\ud83c\udf89\udf89\u0041"}"#,
        r#"["\ud8", "\ud83", "\u"]"#,
    ];
    let mut found: Vec<Vec<u8>> = escaped.map(|text| text.as_bytes().to_vec()).into();
    found.push(b"{\"a\":\"cut \xf0\x9f\x8e\",\"b\":\"half \xed\xa0\xbc \xed\xbe\x89\"}".to_vec());
    found
}
