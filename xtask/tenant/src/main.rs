//! `tenant check FILE…` reads tenant documents with the very code the functions use, and names every fault with its JSON pointer.
//! `tenant check --live FILE…` asks the messaging provider as well whether what the document names is there and ready.
//! `tenant key TENANT_ID` makes an API key and the hash that goes into the document.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what this program is for"
)]

use std::process::ExitCode;
use std::time::Duration;

use chatbill_domain::fault::Fault;
use chatbill_domain::http::{CallError, converse};
use chatbill_domain::ids::TenantId;
use chatbill_domain::payment::PaymentMode;
use chatbill_domain::signature::sha256;
use chatbill_domain::tenant::Tenant;
use chatbill_runtime::http_client::HttpClient;

const USAGE: &str = "usage: tenant check [--local] [--live] FILE…\n       tenant key TENANT_ID\n\n\
    --local also allows http:// base URLs on this machine, as the stage `local` does\n\
    --live also asks the messaging provider, with the document's credentials, whether the payment configuration it names is\n\
    there, active and of the same gateway; nothing is sent to customers and nothing is changed";

/// A person waits for the answer, so it may take longer than in a function.
const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["check", rest @ ..] => {
            let (flags, files): (Vec<&str>, Vec<&str>) =
                rest.iter().partition(|word| word.starts_with("--"));
            let known = flags
                .iter()
                .all(|flag| ["--local", "--live"].contains(flag));
            if files.is_empty() || !known {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
            check_all(
                &files,
                flags.contains(&"--local"),
                flags.contains(&"--live"),
            )
        }
        ["key", tenant] => key(tenant),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn check_all(files: &[&str], local: bool, live: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        match std::fs::read_to_string(file) {
            Err(error) => {
                eprintln!("{file}: {error}");
                code = ExitCode::from(2);
            }
            Ok(text) => match check(&text, local) {
                Ok(tenant) => {
                    match tier(text.len()) {
                        Ok(None) => {}
                        Ok(Some(note)) => println!("{file}: {note}"),
                        Err(fault) => {
                            eprintln!("{file}: {fault}");
                            code = ExitCode::FAILURE;
                            continue;
                        }
                    }
                    println!(
                        "{file}: good. {} ({}) bills by {} through {}, paid by {} at {}",
                        tenant.display_name,
                        tenant.id,
                        tenant.channel.kind.as_str(),
                        tenant.channel.account.vendor,
                        tenant.payment.mode.as_str(),
                        tenant.payment.account.vendor,
                    );
                    if live && !ask(file, &tenant) {
                        code = ExitCode::FAILURE;
                    }
                }
                Err(faults) => {
                    for fault in faults {
                        eprintln!("{file}: {fault}");
                    }
                    code = ExitCode::FAILURE;
                }
            },
        }
    }
    code
}

/// What a parameter of the standard tier holds, in bytes ("Managing parameter tiers", Systems Manager user guide).
const STANDARD: usize = 4096;
/// What one of the advanced tier holds, and none holds more.
const ADVANCED: usize = 8192;

/// What has to be known about a document of this size, put into the parameter store as it is.
fn tier(bytes: usize) -> Result<Option<String>, String> {
    if bytes > ADVANCED {
        Err(format!(
            "{bytes} bytes; no parameter holds more than {ADVANCED}. Leave out blanks, previous secrets and registered texts that nothing sends"
        ))
    } else if bytes > STANDARD {
        Ok(Some(format!(
            "{bytes} bytes; more than {STANDARD} are a parameter of the Advanced tier, which costs money: put it with --tier Intelligent-Tiering"
        )))
    } else {
        Ok(None)
    }
}

/// Everything the functions would refuse: the document's form, and what its gateway and provider need.
fn check(text: &str, local: bool) -> Result<Tenant, Vec<Fault>> {
    let tenant = Tenant::read(text, local)?;
    let faults: Vec<Fault> = [
        chatbill_gateways::open_all(&tenant).err(),
        chatbill_channels::open(&tenant).err(),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .collect();
    if faults.is_empty() {
        Ok(tenant)
    } else {
        Err(faults)
    }
}

/// Asks the provider about one document and prints what it says; false when something has to be mended.
fn ask(file: &str, tenant: &Tenant) -> bool {
    let vendor = &tenant.channel.account.vendor;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (runtime, http) = match (runtime, HttpClient::new(PATIENCE)) {
        (Ok(runtime), Ok(http)) => (runtime, http),
        (Err(error), _) => {
            eprintln!("{file}: {error}");
            return false;
        }
        (_, Err(error)) => {
            eprintln!("{file}: {error}");
            return false;
        }
    };
    let said = runtime.block_on(live(tenant, &http));
    let (good, lines) = verdict(vendor, tenant.payment.mode, said);
    for line in lines {
        if good {
            println!("{file}: {line}");
        } else {
            eprintln!("{file}: {line}");
        }
    }
    good
}

/// What the provider says is wrong with what the document names.
async fn live(tenant: &Tenant, http: &HttpClient) -> Result<Vec<Fault>, CallError> {
    match chatbill_channels::open(tenant) {
        Ok(channel) => converse(http, |answers| channel.check_account(answers)).await,
        Err(faults) => Ok(faults),
    }
}

fn verdict(
    vendor: &str,
    mode: PaymentMode,
    said: Result<Vec<Fault>, CallError>,
) -> (bool, Vec<String>) {
    match said {
        Ok(faults) if faults.is_empty() && mode == PaymentMode::PaymentGateway => (
            true,
            vec![format!("{vendor} has the payment configuration, active")],
        ),
        Ok(faults) if faults.is_empty() => (
            true,
            vec![format!(
                "nothing to ask {vendor}: no payment configuration is used"
            )],
        ),
        Ok(faults) => (false, faults.iter().map(ToString::to_string).collect()),
        Err(CallError::Unsupported(_)) => (
            true,
            vec![format!("{vendor} cannot be asked about its account")],
        ),
        Err(error) => (false, vec![format!("asking {vendor}: {error}")]),
    }
}

fn key(tenant: &str) -> ExitCode {
    let Ok(tenant) = TenantId::parse(tenant) else {
        eprintln!("a tenant id is {}", TenantId::RULE);
        return ExitCode::FAILURE;
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a tool that makes a secret; there is no port to inject here"
    )]
    let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()]
        .map(|u| u.simple().to_string())
        .concat();
    let key = format!("cb_{tenant}_{random}");
    println!("API key (shown once, keep it secret):  {key}");
    println!(
        "sha256 for the tenant document:        {}",
        hex::encode(sha256(key.as_bytes()))
    );
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use chatbill_domain::http::{Answer, HttpCall};
    use chatbill_domain::ports::HttpSend as _;
    use serde_json::{Value, json};

    const EXAMPLE: &str = include_str!("../../../docs/tenant.example.json");
    const SCHEMA: &str = include_str!("../../../docs/tenant.schema.json");

    fn example() -> Value {
        serde_json::from_str(EXAMPLE).unwrap()
    }

    fn schema() -> jsonschema::Validator {
        jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap()
    }

    #[test]
    fn the_example_is_good_for_the_functions_and_for_the_schema() {
        assert!(check(EXAMPLE, false).is_ok());
        assert!(schema().is_valid(&example()));
    }

    #[test]
    fn country_and_consent_words_are_what_the_schema_says() {
        for (field, value, good) in [
            ("country", json!("IN"), true),
            ("country", json!("SG"), true),
            ("country", json!("india"), false),
            ("consent_words", json!({}), true),
            (
                "consent_words",
                json!({"stop": ["no bills"], "start": []}),
                true,
            ),
            ("consent_words", json!({"stop": "no bills"}), false),
            ("consent_words", json!({"stop": vec!["x"; 51]}), false),
            ("consent_words", json!({"halt": []}), false),
        ] {
            let mut document = example();
            document[field] = value;
            let checked = check(&document.to_string(), false);
            assert_eq!(checked.is_ok(), good, "{checked:?}");
            assert_eq!(schema().is_valid(&document), good, "{}", document[field]);
        }
        let mut document = example();
        document["consent_words"] = json!({"stop": ["start"]});
        assert!(check(&document.to_string(), false).is_err());
    }

    /// The document of a shop whose customers pay inside WhatsApp, at a sandbox that plays Meta.
    fn native(sandbox: &sandbox::Sandbox, name: &str, token: &str) -> Tenant {
        let mut document = example();
        document["payment"]["mode"] = json!("payment_gateway");
        document["payment"]["configuration_name"] = json!(name);
        document["channel"]["base_url"] = json!(format!("{}/meta", sandbox.url()));
        document["channel"]["credentials"]["access_token"] = json!(token);
        check(&document.to_string(), true).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    #[tokio::test]
    async fn the_provider_is_asked_about_the_payment_configuration() {
        let sandbox = sandbox::Sandbox::start().await.unwrap();
        let http = HttpClient::new(PATIENCE).unwrap();
        let account = json!({"meta": {
            "phone_number_id": "106540352242922", "waba_id": "102290129340398", "access_token": "token", "app_secret": "secret",
            "configurations": [
                {"configuration_name": "shop / pay", "provider_name": "RazorPay"},
                {"configuration_name": "asleep", "provider_name": "razorpay", "status": "Needs_Testing"},
                {"configuration_name": "elsewhere", "provider_name": "payu"},
            ],
        }});
        let register = HttpCall::post_json(
            "sandbox.accounts",
            format!("{}/_control/accounts", sandbox.url()),
            String::new().into(),
            &account,
        );
        assert!(matches!(http.send(&register).await, Answer::Reply(reply) if reply.ok()));
        for (name, codes) in [
            ("shop / pay", vec![]),
            ("asleep", vec!["inactive"]),
            ("elsewhere", vec!["inconsistent"]),
            ("nothing", vec!["unknown"]),
        ] {
            let faults = live(&native(&sandbox, name, "token"), &http).await.unwrap();
            let seen: Vec<_> = faults.iter().map(|f| f.code).collect();
            assert_eq!(seen, codes, "{name}");
            let (good, lines) = verdict("meta", PaymentMode::PaymentGateway, Ok(faults));
            assert_eq!(good, codes.is_empty());
            assert!(lines[0].contains("payment configuration"), "{lines:?}");
        }
        let refused = live(&native(&sandbox, "shop / pay", "wrong-token"), &http).await;
        assert!(matches!(&refused, Err(CallError::Rejected { code, .. }) if code == "190"));
        let (good, lines) = verdict("meta", PaymentMode::PaymentGateway, refused);
        assert!(!good && !lines[0].contains("wrong-token"), "{lines:?}");
    }

    #[test]
    fn what_cannot_be_asked_is_no_fault() {
        let link = PaymentMode::PaymentLink;
        let (good, lines) = verdict("exotel", link, Err(CallError::Unsupported("x")));
        assert!(good && lines[0].contains("cannot be asked"), "{lines:?}");
        let (good, lines) = verdict("meta", link, Ok(vec![]));
        assert!(good && lines[0].contains("nothing to ask"), "{lines:?}");
    }

    /// Every provider and kind, each with one thing taken away that it needs.
    #[test]
    fn the_schema_and_the_functions_agree_about_every_provider() {
        let schema = schema();
        let ids = json!({"invoice": "1107160000000000001",
            "paid": {"id": "1107160000000000002", "text": "{#var#} thanks you. {#url#}", "variables": ["shop", "receipt_url"]}});
        let exotel = json!({"account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": "sixteen letters."});
        let kaleyra = json!({"sid": "HXIN1", "api_key": "key", "callback_token": "sixteen letters.", "payment_number": "+918045210677"});
        let with = |credentials: &Value, more: Value| {
            let mut all = credentials.clone();
            let object = all.as_object_mut().unwrap();
            object.extend(more.as_object().unwrap().clone());
            all
        };
        for (kind, provider, credentials, needed) in [
            (
                "whatsapp",
                "exotel",
                with(&exotel, json!({"order_details_form": "flat"})),
                "/callback_token",
            ),
            ("whatsapp", "kaleyra", kaleyra.clone(), "/sid"),
            (
                "sms",
                "exotel",
                with(
                    &exotel,
                    json!({"sender": "ACMEST", "dlt_entity_id": "1201", "dlt_template_ids": ids}),
                ),
                "/dlt_entity_id",
            ),
            (
                "sms",
                "kaleyra",
                with(
                    &kaleyra,
                    json!({"sender": "ACMEST", "dlt_template_ids": ids}),
                ),
                "/dlt_template_ids/paid",
            ),
            (
                "fallback",
                "exotel",
                with(
                    &exotel,
                    json!({"sender": "ACMEST", "dlt_entity_id": "1201", "dlt_template_ids": ids}),
                ),
                "/sender",
            ),
            (
                "fallback",
                "kaleyra",
                with(
                    &kaleyra,
                    json!({"sender": "ACMEST", "dlt_template_ids": ids}),
                ),
                "/sender",
            ),
        ] {
            let mut document = example();
            let templates = document["channel"]["templates"].take();
            document["channel"]
                .as_object_mut()
                .unwrap()
                .remove("templates");
            document["channel"]["kind"] = json!(if kind == "sms" { kind } else { "whatsapp" });
            document["channel"]["fallback_to_sms"] = json!(kind == "fallback");
            document["channel"]["provider"] = json!(provider);
            document["channel"]["credentials"] = credentials;
            let agree = |document: &Value, good: bool, what: &str| {
                let checked = check(&document.to_string(), false);
                assert_eq!(
                    checked.is_ok(),
                    good,
                    "the functions: {kind} {provider} {what}: {checked:?}"
                );
                assert_eq!(
                    schema.is_valid(document),
                    good,
                    "the schema: {kind} {provider} {what}"
                );
            };
            agree(&document, true, "as it should be");
            let mut templated = document.clone();
            templated["channel"]["templates"] = templates;
            agree(&templated, false, "with templates");
            let mut odd = document.clone();
            odd["channel"]["credentials"]["waba_id"] = json!("1");
            agree(&odd, false, "with a field of another provider");
            let mut short = document.clone();
            short["channel"]["credentials"]["callback_token"] = json!("fifteen letters");
            agree(&short, false, "with a token that could be guessed");
            for (qr, good) in [
                ("link", kind != "sms" && provider == "exotel"),
                ("upload", false),
            ] {
                let mut pictured = document.clone();
                pictured["channel"]["qr_header"] = json!(qr);
                let form = pictured["channel"]["credentials"].get("order_details_form");
                let good = good && form.is_none();
                agree(&pictured, good, &format!("with qr_header {qr}"));
            }
            if provider == "kaleyra" {
                let mut profiled = document.clone();
                profiled["channel"]["credentials"]["callback_profile_id"] = json!("IN_1");
                agree(&profiled, kind != "fallback", "with a callback profile");
            }
            let (parent, name) = needed.rsplit_once('/').unwrap();
            let pointer = format!("/channel/credentials{parent}");
            document
                .pointer_mut(&pointer)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(name);
            agree(&document, false, needed);
        }
        let mut meta = example();
        meta["channel"]["kind"] = json!("sms");
        assert!(check(&meta.to_string(), false).is_err() && !schema.is_valid(&meta));
    }

    #[test]
    fn a_document_too_large_for_its_parameter_is_told_of() {
        assert_eq!(tier(STANDARD), Ok(None));
        assert!(
            tier(STANDARD + 1)
                .unwrap()
                .unwrap()
                .contains("Intelligent-Tiering")
        );
        assert!(tier(ADVANCED).unwrap().is_some());
        assert!(tier(ADVANCED + 1).unwrap_err().contains("8193 bytes"));
        // As a person meets it: blanks count, for they are put as well.
        let folder = std::env::temp_dir().join(format!("tenant-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("acme.json");
        let mut text = example().to_string();
        for (length, good) in [(STANDARD, true), (ADVANCED, true), (ADVANCED + 1, false)] {
            text.push_str(&" ".repeat(length - text.len()));
            std::fs::write(&path, &text).unwrap();
            let code = check_all(&[path.to_str().unwrap()], false, false);
            assert_eq!(code == ExitCode::SUCCESS, good, "{length}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// Also where a vendor signs everything: the address may have the token all the same.
    #[test]
    fn every_vendor_s_credentials_may_have_a_callback_token() {
        let schema = schema();
        let razorpay = example()["payment"].clone();
        let gateway = |name: &str, credentials: Value| json!({"mode": "payment_link", "gateway": name, "credentials": credentials});
        let gateways = [
            razorpay,
            gateway(
                "payu",
                json!({"key": "k", "salts": ["s"], "client_id": "c", "client_secret": "s", "merchant_id": "1"}),
            ),
            gateway(
                "zaakpay",
                json!({"merchant_identifier": "m", "secret_keys": ["s"], "buyer_email": "a@b.c"}),
            ),
            gateway(
                "billdesk",
                json!({"merchant_id": "m", "client_id": "c", "security": "hmac", "signing_key": "s"}),
            ),
        ];
        assert_eq!(gateways.len(), chatbill_gateways::names().len());
        for payment in gateways {
            let mut document = example();
            document["payment"] = payment;
            for (part, token, good) in [
                ("/payment", "sixteen letters.", true),
                ("/payment", "fifteen letters", false),
                ("/channel", "sixteen letters.", true),
                ("/channel", "fifteen letters", false),
            ] {
                let mut changed = document.clone();
                let credentials = changed.pointer_mut(&format!("{part}/credentials")).unwrap();
                credentials["callback_token"] = json!(token);
                let checked = check(&changed.to_string(), false);
                let what = format!("{} {part} {token}", document["payment"]["gateway"]);
                assert_eq!(checked.is_ok(), good, "the functions: {what}: {checked:?}");
                assert_eq!(schema.is_valid(&changed), good, "the schema: {what}");
            }
        }
    }

    /// UPI links are for live keys and links only.
    #[test]
    fn the_schema_and_the_functions_agree_about_upi_links() {
        let schema = schema();
        for (mode, key, good) in [
            ("payment_link", "rzp_live_1", true),
            ("payment_link", "rzp_test_1", false),
            ("payment_gateway", "rzp_live_1", false),
        ] {
            let mut document = example();
            document["payment"]["mode"] = json!(mode);
            document["payment"]["configuration_name"] = json!("shop-razorpay");
            document["payment"]["credentials"]["key_id"] = json!(key);
            document["payment"]["credentials"]["upi_link"] = json!(true);
            assert_eq!(
                check(&document.to_string(), false).is_ok(),
                good,
                "{mode} {key}"
            );
            assert_eq!(schema.is_valid(&document), good, "{mode} {key}");
        }
    }

    /// PayU, with one thing after the other taken away or made odd.
    #[test]
    fn the_schema_and_the_functions_agree_about_payu() {
        let schema = schema();
        let mut document = example();
        document["payment"]["gateway"] = json!("payu");
        document["payment"]["credentials"] = json!({
            "key": "gtKFFx", "salts": ["current", "previous"], "client_id": "id", "client_secret": "secret",
            "merchant_id": "8237550"
        });
        let agree = |document: &Value, good: bool, what: &str| {
            let checked = check(&document.to_string(), false);
            assert_eq!(checked.is_ok(), good, "the functions: {what}: {checked:?}");
            assert_eq!(schema.is_valid(document), good, "the schema: {what}");
        };
        agree(&document, true, "as it should be");
        for (name, value) in [
            ("key", Value::Null),
            ("key", json!("a|b")),
            ("salts", Value::Null),
            ("salts", json!([])),
            ("client_id", Value::Null),
            ("client_secret", Value::Null),
            ("merchant_id", Value::Null),
            ("merchant_id", json!("82 37")),
            ("key_id", json!("rzp_test_1")),
        ] {
            let mut odd = document.clone();
            let credentials = odd["payment"]["credentials"].as_object_mut().unwrap();
            match value {
                Value::Null => credentials.remove(name),
                value => credentials.insert(name.to_owned(), value),
            };
            agree(&odd, false, name);
        }
        document["payment"]["mode"] = json!("upi_intent");
        agree(&document, false, "upi_intent");
    }

    #[test]
    fn the_schema_and_the_functions_agree_about_zaakpay() {
        let schema = schema();
        let good = json!({"merchant_identifier": "b19e8f103bce", "secret_keys": ["new", "old"], "buyer_email": "bills@acme.example"});
        for (mode, name, value, is_good) in [
            (
                "payment_link",
                "buyer_email",
                json!("a.b+c@acme.example"),
                true,
            ),
            ("payment_link", "buyer_email", Value::Null, false),
            ("payment_link", "buyer_email", json!("acme"), false),
            ("payment_link", "buyer_email", json!("bills@acme"), false),
            (
                "payment_link",
                "buyer_email",
                json!("a&b@acme.example"),
                false,
            ),
            ("payment_gateway", "buyer_email", Value::Null, true),
            ("payment_gateway", "merchant_identifier", Value::Null, false),
            ("payment_link", "merchant_identifier", json!("a-b"), false),
            ("payment_link", "secret_keys", json!([]), false),
            ("payment_link", "key_id", json!("rzp_test_1"), false),
            (
                "upi_intent",
                "buyer_email",
                json!("bills@acme.example"),
                false,
            ),
        ] {
            let mut document = example();
            let mut credentials = good.clone();
            match value.clone() {
                Value::Null => credentials.as_object_mut().unwrap().remove(name),
                value => credentials
                    .as_object_mut()
                    .unwrap()
                    .insert(name.to_owned(), value),
            };
            document["payment"] = json!({
                "mode": mode, "gateway": "zaakpay", "configuration_name": "shop-zaakpay", "credentials": credentials,
            });
            let checked = check(&document.to_string(), false);
            assert_eq!(
                checked.is_ok(),
                is_good,
                "{mode} {name} {value}: {checked:?}"
            );
            assert_eq!(
                schema.is_valid(&document),
                is_good,
                "the schema: {mode} {name} {value}"
            );
        }
    }

    /// BillDesk in every mode and with both ways of protecting tokens, each with one thing changed.
    #[test]
    fn the_schema_and_the_functions_agree_about_billdesk() {
        let schema = schema();
        let key = "32 characters of an encryption k";
        for (mode, security) in [
            ("payment_link", "hmac"),
            ("payment_gateway", "jose"),
            ("upi_intent", "hmac"),
            ("upi_intent", "jose"),
        ] {
            let mut good = example();
            good["payment"] = json!({"mode": mode, "gateway": "billdesk", "credentials": {
                "merchant_id": "M", "client_id": "c", "security": security, "signing_key": ["new", "old"], "signing_key_id": "s",
                "encryption_key": key, "encryption_key_id": "e", "vpa": "acme@bank", "merchant_category": "5411",
                "merchant_name": "Acme", "item_code": "DIRECT", "bank_id": "ICW",
            }});
            if mode == "payment_gateway" {
                good["payment"]["configuration_name"] = json!("pay");
            }
            let agree = |name: &str, value: Value, expected: bool| {
                let mut document = good.clone();
                let credentials = document["payment"]["credentials"].as_object_mut().unwrap();
                match value {
                    Value::Null => credentials.remove(name),
                    value => credentials.insert(name.to_owned(), value),
                };
                let checked = check(&document.to_string(), false);
                assert_eq!(
                    (checked.is_ok(), schema.is_valid(&document)),
                    (expected, expected),
                    "{mode} {security} {name}: {checked:?}"
                );
            };
            let (encrypted, intent) = (security == "jose", mode == "upi_intent");
            agree("signing_key", json!("one"), true);
            agree("encryption_key", json!([key, key]), true);
            for (name, optional) in [
                ("merchant_id", false),
                ("client_id", false),
                ("security", false),
                ("signing_key", false),
                ("signing_key_id", !encrypted),
                ("encryption_key_id", false),
                ("vpa", !intent),
                ("merchant_category", !intent),
                ("merchant_name", !intent),
                ("item_code", true),
                ("bank_id", true),
            ] {
                if name != "encryption_key_id" || encrypted {
                    agree(name, Value::Null, optional);
                }
            }
            agree("encryption_key", Value::Null, !encrypted);
            agree("encryption_key", json!("short"), false);
            agree("encryption_key", json!([]), false);
            agree("signing_key", json!(["", "old"]), false);
            agree("security", json!("rsa"), false);
            agree("vpa", json!("acme"), false);
            agree("key_id", json!("x"), false);
        }
    }

    /// The schema is written by hand for editors; what it refuses, the functions refuse too.
    #[test]
    fn the_schema_and_the_functions_agree_about_faults() {
        let schema = schema();
        for (pointer, value) in [
            ("/tenant_id", json!("with_underscore")),
            ("/tenant_id", Value::Null),
            ("/display_name", json!("x".repeat(61))),
            ("/colour", json!("red")),
            ("/api_keys/0/sha256", json!("abc")),
            ("/api_keys/0/scopes", json!(["everything"])),
            ("/receipt_secrets", json!([])),
            ("/receipt_secrets", json!(["short"])),
            ("/channel/kind", json!("pigeon")),
            ("/channel/provider", json!("pigeon")),
            ("/channel/credentials/app_secrets", json!([])),
            ("/channel/credentials/access_token", Value::Null),
            ("/channel/templates/invoice/language", Value::Null),
            (
                "/channel/templates/receipt",
                json!({"name": "a", "language": "en", "parameters": ["price"]}),
            ),
            ("/channel/form", json!("fax")),
            ("/channel/fallback_to_sms", json!(true)),
            // The example's bill is a template without a media header.
            ("/channel/qr_header", json!("link")),
            ("/channel/credentials/waba_id", json!("1/2")),
            ("/payment/mode", json!("cash")),
            ("/payment/gateway", json!("cash")),
            ("/payment/base_url", json!("ftp://x.example")),
            ("/payment/credentials/key_secret", Value::Null),
            ("/payment/credentials/upi_link", json!("yes")),
            ("/on_captured", json!("shipped")),
            ("/late_payment", json!("keep")),
        ] {
            let mut document = example();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let object = document
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap();
            match value {
                Value::Null => object.remove(name),
                value => object.insert(name.to_owned(), value),
            };
            assert!(
                check(&document.to_string(), false).is_err(),
                "the functions take {pointer}"
            );
            assert!(!schema.is_valid(&document), "the schema takes {pointer}");
        }
    }
}
