//! The two tenants that every local stack starts with, onboarded as in production: a document in the parameter store and an
//! API key in the usage plan.

use std::fs::File;
use std::io::Read as _;
use std::thread;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::aws::Aws;
use crate::deploy::Deployment;
use crate::failure::{Context as _, Failure, Result};
use crate::report;
use crate::sandbox::Sandbox;

/// How the customers of a tenant pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    PaymentLink,
    PaymentGateway,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::PaymentLink => "payment_link",
            Self::PaymentGateway => "payment_gateway",
        }
    }
}

/// A tenant and the key that its POS uses.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: &'static str,
    pub(crate) display_name: &'static str,
    pub(crate) mode: Mode,
    pub(crate) api_key: String,
}

const DEMO: [(&str, &str, Mode); 2] = [
    ("demo-link", "Demo Kirana", Mode::PaymentLink),
    ("demo-native", "Demo Bakery", Mode::PaymentGateway),
];

/// What a tenant shares with its vendors; made anew for every stack.
struct Shared {
    phone_number_id: String,
    waba_id: String,
    phone: String,
    access_token: String,
    app_secret: String,
    verify_token: String,
    configuration: String,
    key_id: String,
    key_secret: String,
    webhook_secret: String,
}

impl Shared {
    fn new(id: &str, number: u32) -> Result<Self> {
        Ok(Self {
            phone_number_id: format!("20{number:013}"),
            waba_id: format!("10{number:013}"),
            phone: format!("91804521{number:04}"),
            access_token: format!("EAA{}", random()?),
            app_secret: random()?,
            verify_token: random()?,
            configuration: format!("{id}-upi"),
            key_id: format!("rzp_test_{}", random()?.get(..14).unwrap_or_default()),
            key_secret: random()?,
            webhook_secret: random()?,
        })
    }
}

/// Onboards the tenants at their vendors (the sandbox) and in the stack.
pub(crate) fn onboard(
    aws: &Aws,
    sandbox: &Sandbox,
    deployment: &Deployment,
) -> Result<Vec<Tenant>> {
    report::step("onboard two tenants", || {
        thread::scope(|scope| {
            let running: Vec<_> = DEMO
                .into_iter()
                .zip(1_u32..)
                .map(|((id, display_name, mode), number)| {
                    let api_key = random().map(|random| format!("cb_{id}_{random}"));
                    scope.spawn(move || {
                        let tenant = Tenant {
                            id,
                            display_name,
                            mode,
                            api_key: api_key?,
                        };
                        onboard_one(aws, sandbox, deployment, &tenant, number)?;
                        Ok(tenant)
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|one| {
                    one.join()
                        .unwrap_or_else(|_| Err(Failure::new("onboarding panicked")))
                })
                .collect()
        })
    })
}

fn onboard_one(
    aws: &Aws,
    sandbox: &Sandbox,
    deployment: &Deployment,
    tenant: &Tenant,
    number: u32,
) -> Result<()> {
    let id = tenant.id;
    let shared = Shared::new(id, number)?;
    sandbox.control("accounts", &accounts(id, &shared, &deployment.api_url))?;
    let document = document(tenant, &shared, &sandbox.url)?.to_string();
    let value = aws.file_argument(&format!("{id}.json"), &document)?;
    let name = format!("{}/{id}", deployment.output("TenantsPath")?);
    aws.call(&[
        "ssm",
        "put-parameter",
        "--type",
        "SecureString",
        "--name",
        &name,
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
        &tenant.api_key,
    ])?;
    let key = key
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
        key,
        "--key-type",
        "API_KEY",
    ])
    .map(|_| ())
}

/// The tenant's accounts at its vendors, as the sandbox takes them.
fn accounts(id: &str, shared: &Shared, api_url: &str) -> Value {
    let template = |name: &str, kind: &str| json!({"name": name, "language": "en", "kind": kind, "variables": 2});
    json!({
        "razorpay": {
            "key_id": shared.key_id, "key_secret": shared.key_secret, "webhook_secret": shared.webhook_secret,
            "webhook_url": format!("{api_url}/webhooks/razorpay/{id}"),
        },
        "meta": {
            "phone_number_id": shared.phone_number_id, "waba_id": shared.waba_id, "display_phone_number": shared.phone,
            "access_token": shared.access_token, "app_secret": shared.app_secret, "verify_token": shared.verify_token,
            "webhook_url": format!("{api_url}/webhooks/meta/{id}"),
            "configurations": [{"configuration_name": shared.configuration, "provider_name": "razorpay"}],
            "templates": [template("bill", "order_details"), template("order_update", "order_status"), template("bill_refund", "body")],
        },
    })
}

/// The tenant document.
fn document(tenant: &Tenant, shared: &Shared, sandbox_url: &str) -> Result<Value> {
    let mut payment = json!({
        "mode": tenant.mode.name(), "gateway": "razorpay", "base_url": format!("{sandbox_url}/razorpay"),
        "credentials": {
            "key_id": shared.key_id, "key_secret": shared.key_secret, "webhook_secrets": [shared.webhook_secret],
        },
    });
    if tenant.mode == Mode::PaymentGateway
        && let Some(fields) = payment.as_object_mut()
    {
        fields.insert("configuration_name".to_owned(), json!(shared.configuration));
    }
    Ok(json!({
        "tenant_id": tenant.id, "display_name": tenant.display_name,
        "api_keys": [{
            "id": "pos-1", "sha256": hex::encode(Sha256::digest(&tenant.api_key)), "scopes": ["invoices", "refunds", "reports"],
        }],
        "receipt_secrets": [random()?],
        "channel": {
            "kind": "whatsapp", "provider": "meta", "from": format!("+{}", shared.phone),
            "base_url": format!("{sandbox_url}/meta"),
            "credentials": {
                "phone_number_id": shared.phone_number_id, "waba_id": shared.waba_id,
                "access_token": shared.access_token, "app_secrets": [shared.app_secret],
                "verify_token": shared.verify_token,
            },
            "templates": {
                "invoice": {"name": "bill", "language": "en", "parameters": ["customer_name", "amount"]},
                "status": {"name": "order_update", "language": "en", "parameters": ["reference_id", "receipt_url"]},
                "refund": {"name": "bill_refund", "language": "en", "parameters": ["amount", "receipt_url"]},
            },
        },
        "payment": payment, "on_captured": "completed", "late_payment": "hold",
    }))
}

/// 32 hexadecimal digits that nobody can guess.
pub(crate) fn random() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .doing("reading /dev/urandom")?;
    Ok(hex::encode(bytes))
}
