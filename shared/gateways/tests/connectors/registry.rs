//! Every registered gateway has what it needs to be trusted.

use chatbill_domain::webhook::Refused;

use crate::support::{Probe, folder, read};

/// A gateway without a line here fails the test below.
fn probe(name: &str) -> Probe {
    match name {
        "billdesk" => crate::billdesk::probe(),
        "payu" => crate::payu::probe(),
        "razorpay" => crate::razorpay::probe(),
        "zaakpay" => crate::zaakpay::probe(),
        other => panic!("{other} has no probe"),
    }
}

#[test]
fn every_gateway_is_complete() {
    assert!(!chatbill_gateways::names().is_empty());
    for name in chatbill_gateways::names() {
        let probe = probe(name);
        assert_eq!(probe.tenant.payment.account.vendor, name);
        let gateway = chatbill_gateways::open(&probe.tenant).unwrap();
        assert_eq!(gateway.name(), name);

        let index = std::fs::read_to_string(folder(name).join("index.json"))
            .unwrap_or_else(|e| panic!("fixtures/{name}/index.json: {e}"));
        for entry in std::fs::read_dir(folder(name)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                file == "index.json" || index.contains(&format!("\"{file}\"")),
                "fixtures/{name}/{file} does not say where it is from"
            );
        }

        let verified = gateway
            .verify(probe.webhook.clone())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!gateway.read(&verified).unwrap().is_empty(), "{name}");
        let mut tampered = probe.webhook.clone();
        tampered.body.push(b' ');
        assert!(
            matches!(gateway.verify(tampered), Err(Refused::Mismatch)),
            "{name}"
        );
        assert!(
            matches!(gateway.verify(probe.unsigned), Err(Refused::Missing)),
            "{name}"
        );

        assert!(!probe.calls.is_empty(), "{name} shows no calls");
        for call in probe.calls {
            let file = format!("tests/connectors/snapshots/connectors__{name}__{call}.snap");
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
            assert!(path.exists(), "{file} is missing");
        }
    }
}

#[test]
fn an_unknown_gateway_is_a_fault_of_the_document() {
    let payment =
        serde_json::json!({"mode": "payment_link", "gateway": "stripe", "credentials": {}});
    let faults = chatbill_gateways::open(&read(&payment).unwrap())
        .err()
        .unwrap();
    assert_eq!(
        (faults[0].pointer.as_str(), faults[0].code),
        ("/payment/gateway", "unknown")
    );
    assert!(faults[0].detail.contains("razorpay"));
}

/// An order stays with the account it was made with, as long as the tenant's document has it.
#[test]
fn an_order_goes_to_the_account_it_was_made_with() {
    let razorpay = |key: &str, mode: &str| {
        serde_json::json!({"mode": mode, "gateway": "razorpay", "base_url": format!("https://{key}-{mode}.example"),
            "credentials": {"key_id": key, "key_secret": "s", "webhook_secrets": ["w"]}})
    };
    let mut payment = razorpay("now", "payment_link");
    payment["previous"] = serde_json::json!([
        razorpay("before", "payment_link"),
        razorpay("now", "payment_gateway"),
        {"gateway": "zaakpay", "mode": "payment_link", "credentials": {"merchant_identifier": "m1",
            "secret_keys": ["0123456789abcdef0123456789abcdef"], "buyer_email": "pay@shop.example"}},
    ]);
    let tenant = crate::support::tenant(&payment);
    let gateways = chatbill_gateways::open_all(&tenant).unwrap();
    let mark = |account: &chatbill_domain::tenant::Account| account.mark();
    let (now, before) = (
        mark(&tenant.payment.account),
        mark(&tenant.payment.previous[0].account),
    );
    let host = |gateway: &str, account: Option<String>| {
        let mut terms = chatbill_testkit::builders::draft(chatbill_testkit::builders::bill())
            .contents
            .terms;
        terms.gateway = gateway.to_owned();
        terms.account = account;
        let gateway = gateways.of(&terms)?;
        let lookup = chatbill_testkit::builders::lookup_request(
            chatbill_domain::payment::PaymentMode::PaymentLink,
            Some("plink_1"),
        );
        match gateway.lookup(&lookup, &[]) {
            chatbill_domain::http::Step::Call(call) => {
                call.url.split('/').nth(2).map(str::to_owned)
            }
            chatbill_domain::http::Step::Done(_) => None,
        }
    };
    let expect = |name: &str| Some(format!("{name}.example"));
    assert_eq!(host("razorpay", now), expect("now-payment_link"));
    assert_eq!(host("razorpay", before), expect("before-payment_link"));
    assert_eq!(host("razorpay", None), expect("now-payment_link"));
    // A key made anew has another name; the account is most likely the current one.
    let gone = Some("000000000000".to_owned());
    assert_eq!(host("razorpay", gone), expect("now-payment_link"));
    assert_eq!(host("zaakpay", None), Some("api.zaakpay.com".to_owned()));
    assert_eq!(host("billdesk", None), None);
    assert_eq!(gateways.named("razorpay").count(), 3);

    // What is wrong with an earlier account points at it.
    payment["previous"] =
        serde_json::json!([{"gateway": "razorpay", "credentials": {"key_id": "k"}}]);
    let faults = chatbill_gateways::open_all(&crate::support::tenant(&payment));
    let faults = faults.err().unwrap();
    assert!(
        faults
            .iter()
            .all(|f| f.pointer.starts_with("/payment/previous/0/credentials/")),
        "{faults:?}"
    );
}
