//! The two tenants that every local stack starts with, onboarded as in production: a document in the parameter store and an
//! API key in the usage plan.

use std::fs::File;
use std::io::Read as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::aws::Aws;
use crate::deploy::Deployment;
use crate::failure::{Context as _, Result};
use crate::report;
use crate::sandbox::Sandbox;

/// How the customers of a tenant pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    PaymentLink,
    PaymentGateway,
}

/// A tenant and the key that its POS uses.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: &'static str,
    pub(crate) mode: Mode,
    pub(crate) api_key: String,
}

const DEMO: [(&str, &str, Mode); 2] = [
    ("demo-link", "Demo Kirana", Mode::PaymentLink),
    ("demo-native", "Demo Bakery", Mode::PaymentGateway),
];

/// Everything a tenant shares with its vendors; made anew for every stack.
struct Secrets {
    waba_id: String,
    phone_number_id: String,
    access_token: String,
    app_secret: String,
    verify_token: String,
    key_id: String,
    key_secret: String,
    webhook_secret: String,
}

/// Onboards the tenants at the vendors (the sandbox) and in the stack.
pub(crate) fn onboard(
    aws: &Aws,
    sandbox: &Sandbox,
    deployment: &Deployment,
) -> Result<Vec<Tenant>> {
    report::step("onboard two tenants", || {
        DEMO.iter()
            .zip(1_u64..)
            .map(|((id, name, mode), number)| {
                onboard_one(aws, sandbox, deployment, id, name, *mode, number)
            })
            .collect()
    })
}

fn onboard_one(
    aws: &Aws,
    sandbox: &Sandbox,
    deployment: &Deployment,
    id: &'static str,
    name: &str,
    mode: Mode,
    number: u64,
) -> Result<Tenant> {
    let api_key = format!("cb_{id}_{}", random()?);
    let secrets = Secrets {
        waba_id: format!("10{number:013}"),
        phone_number_id: format!("20{number:013}"),
        access_token: format!("EAA{}", random()?),
        app_secret: random()?,
        verify_token: random()?,
        key_id: format!("rzp_test_{}", random()?.get(..14).unwrap_or_default()),
        key_secret: random()?,
        webhook_secret: random()?,
    };
    for account in accounts(id, mode, &secrets, &deployment.api_url) {
        sandbox.control("accounts", &account)?;
    }
    let document = document(id, name, mode, &api_key, &secrets, &sandbox.url)?.to_string();
    let value = aws.file_argument(&format!("{id}.json"), &document)?;
    let parameter = format!("{}/{id}", deployment.output("TenantsPath")?);
    aws.call(&[
        "ssm",
        "put-parameter",
        "--type",
        "SecureString",
        "--name",
        &parameter,
        "--value",
        &value,
    ])?;
    let key = aws.call(&[
        "apigateway",
        "create-api-key",
        "--enabled",
        "--name",
        id,
        "--value",
        &api_key,
    ])?;
    let key_id = key
        .get("id")
        .and_then(Value::as_str)
        .doing("create-api-key named no key")?;
    let plan = deployment.output("UsagePlanId")?;
    aws.call(&[
        "apigateway",
        "create-usage-plan-key",
        "--usage-plan-id",
        plan,
        "--key-id",
        key_id,
        "--key-type",
        "API_KEY",
    ])?;
    Ok(Tenant { id, mode, api_key })
}

/// The tenant's accounts at its vendors, as the sandbox takes them.
fn accounts(id: &str, mode: Mode, secrets: &Secrets, api_url: &str) -> [Value; 2] {
    let razorpay = json!({
        "vendor": "razorpay", "account_id": format!("{id}-razorpay"),
        "key_id": secrets.key_id, "key_secret": secrets.key_secret, "webhook_secret": secrets.webhook_secret,
        "webhook_url": format!("{api_url}/webhooks/razorpay/{id}"),
    });
    let meta = json!({
        "vendor": "meta", "account_id": format!("{id}-meta"),
        "phone_number_id": secrets.phone_number_id, "waba_id": secrets.waba_id,
        "access_token": secrets.access_token, "app_secret": secrets.app_secret, "verify_token": secrets.verify_token,
        "webhook_url": format!("{api_url}/webhooks/meta/{id}"),
        "native_payments": mode == Mode::PaymentGateway,
    });
    [razorpay, meta]
}

/// The tenant document.
fn document(
    id: &str,
    name: &str,
    mode: Mode,
    api_key: &str,
    secrets: &Secrets,
    sandbox_url: &str,
) -> Result<Value> {
    let mut payment = json!({
        "mode": "payment_link", "gateway": "razorpay", "base_url": format!("{sandbox_url}/razorpay"),
        "credentials": {"key_id": secrets.key_id, "key_secret": secrets.key_secret, "webhook_secrets": [secrets.webhook_secret]},
    });
    if mode == Mode::PaymentGateway
        && let Some(fields) = payment.as_object_mut()
    {
        fields.insert("mode".to_owned(), json!("payment_gateway"));
        fields.insert("configuration_name".to_owned(), json!(format!("{id}-upi")));
    }
    Ok(json!({
        "tenant_id": id, "display_name": name,
        "api_keys": [{"id": "pos-1", "sha256": hex::encode(Sha256::digest(api_key)), "scopes": ["invoices", "refunds"]}],
        "receipt_secrets": [random()?],
        "channel": {
            "kind": "whatsapp", "provider": "meta", "from": "+918045210677", "base_url": format!("{sandbox_url}/meta/v23.0"),
            "credentials": {
                "phone_number_id": secrets.phone_number_id, "waba_id": secrets.waba_id, "access_token": secrets.access_token,
                "app_secrets": [secrets.app_secret], "verify_token": secrets.verify_token,
            },
        },
        "payment": payment, "on_captured": "completed", "late_payment": "hold",
    }))
}

/// 32 hexadecimal digits that nobody can guess.
fn random() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .doing("reading /dev/urandom")?;
    Ok(hex::encode(bytes))
}
