//! What goes with what: every gateway, mode and channel, opened as the functions open it, held to the table in docs/providers.md. What
//! is impossible is refused when the tenant's document is checked, not when a customer waits.

use chatbill_domain::tenant::Tenant;
use serde_json::{Value, json};

const MODES: [&str; 3] = ["payment_link", "payment_gateway", "upi_intent"];

/// The columns: provider and kind.
const CHANNELS: [(&str, &str); 5] = [
    ("meta", "whatsapp"),
    ("exotel", "whatsapp"),
    ("kaleyra", "whatsapp"),
    ("exotel", "sms"),
    ("kaleyra", "sms"),
];

/// Complete credentials of a gateway; a new gateway needs a line here.
fn gateway(name: &str) -> Value {
    match name {
        "razorpay" => json!({"key_id": "rzp_test_1", "key_secret": "s", "webhook_secrets": ["w"]}),
        "payu" => {
            json!({"key": "k", "salts": ["s"], "client_id": "c", "client_secret": "s", "merchant_id": "1"})
        }
        "zaakpay" => {
            json!({"merchant_identifier": "b19e8f103bce", "secret_keys": ["s"], "buyer_email": "bills@acme.example"})
        }
        "billdesk" => json!({
            "merchant_id": "M", "client_id": "c", "security": "hmac", "signing_key": "k", "signing_key_id": "s",
            "vpa": "acme@bank", "merchant_category": "5411", "merchant_name": "Acme", "item_code": "DIRECT", "bank_id": "ICW",
        }),
        other => panic!("{other} is registered and has no credentials here"),
    }
}

/// Complete credentials of a messaging provider.
fn channel(provider: &str, kind: &str) -> Value {
    let texts = json!({"invoice": "1107160000000000001", "paid": "1107160000000000002"});
    let mut credentials = match provider {
        "meta" => {
            json!({"phone_number_id": "1", "waba_id": "2", "access_token": "t", "app_secrets": ["s"], "verify_token": "v"})
        }
        "exotel" => {
            json!({"account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": "sixteen letters."})
        }
        "kaleyra" => {
            json!({"sid": "HXIN1", "api_key": "key", "callback_token": "sixteen letters."})
        }
        other => panic!("{other} is registered and has no credentials here"),
    };
    if kind == "sms" {
        credentials["sender"] = json!("ACMEST");
        credentials["dlt_template_ids"] = texts;
        if provider == "exotel" {
            credentials["dlt_entity_id"] = json!("1201159");
        }
    }
    credentials
}

/// The faults of a tenant that wants this combination, by code.
fn faults(name: &str, mode: &str, provider: &str, kind: &str) -> Vec<String> {
    let mut document = chatbill_testkit::builders::tenant_json();
    document["channel"] = json!({"kind": kind, "provider": provider, "from": "+918045210677", "credentials": channel(provider, kind)});
    document["payment"] = json!({"mode": mode, "gateway": name, "credentials": gateway(name)});
    if mode == "payment_gateway" {
        document["payment"]["configuration_name"] = json!("shop-pay");
    }
    let tenant = match Tenant::read(&document.to_string(), false) {
        Ok(tenant) => tenant,
        Err(faults) => return faults.iter().map(|f| f.code.to_owned()).collect(),
    };
    let opened = [
        chatbill_gateways::open(&tenant).err(),
        chatbill_channels::open(&tenant).err(),
    ];
    let faults = opened.into_iter().flatten().flatten();
    faults.map(|f| f.code.to_owned()).collect()
}

#[test]
fn the_table_says_what_the_functions_refuse() {
    let mut rows = vec![
        "| gateway | mode | Meta WhatsApp | Exotel WhatsApp | Kaleyra WhatsApp | Exotel SMS | Kaleyra SMS |".to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    let providers: Vec<&str> = CHANNELS.iter().map(|(p, _)| *p).collect();
    for provider in chatbill_channels::names() {
        assert!(providers.contains(&provider), "{provider} has no column");
    }
    for name in chatbill_gateways::names() {
        for mode in MODES {
            let cells: Vec<&str> = CHANNELS
                .iter()
                .map(|(provider, kind)| {
                    let faults = faults(name, mode, provider, kind);
                    assert!(
                        faults.iter().all(|code| code == "impossible"),
                        "{name} {mode} {provider} {kind}: {faults:?}"
                    );
                    if faults.is_empty() { "yes" } else { "refused" }
                })
                .collect();
            rows.push(format!("| `{name}` | `{mode}` | {} |", cells.join(" | ")));
        }
    }
    let table = rows.join("\n");
    let document = super::documents::text("docs/providers.md");
    assert!(
        document.contains(&table),
        "docs/providers.md, section \"What goes with what\", should hold:\n\n{table}\n"
    );
}
