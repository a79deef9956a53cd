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
