//! Every registered provider has what it needs to be trusted.

use chatbill_domain::webhook::Refused;

use crate::support::{Probe, folder, tenant};

/// A provider without a line here fails the test below.
fn probe(name: &str) -> Probe {
    match name {
        "meta" => crate::meta::probe(),
        "exotel" => crate::exotel::probe(),
        "kaleyra" => crate::kaleyra::probe(),
        other => panic!("{other} has no probe"),
    }
}

#[test]
fn every_provider_is_complete() {
    assert!(!chatbill_channels::names().is_empty());
    for name in chatbill_channels::names() {
        let probe = probe(name);
        assert_eq!(probe.tenant.channel.account.vendor, name);
        let channel = chatbill_channels::open(&probe.tenant).unwrap();
        assert_eq!(channel.name(), name);

        let index = std::fs::read_to_string(folder(name).join("index.json"))
            .unwrap_or_else(|e| panic!("fixtures/{name}/index.json: {e}"));
        for entry in std::fs::read_dir(folder(name)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                file == "index.json" || index.contains(&format!("\"{file}\"")),
                "fixtures/{name}/{file} does not say where it is from"
            );
        }

        let verified = channel
            .verify(probe.webhook.clone())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!channel.read(&verified).unwrap().is_empty(), "{name}");
        assert!(
            matches!(channel.verify(probe.tampered), Err(Refused::Mismatch)),
            "{name}"
        );
        let mut bare = probe.webhook;
        bare.headers.clear();
        bare.query.clear();
        assert!(
            matches!(channel.verify(bare), Err(Refused::Missing)),
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
fn an_unknown_provider_is_a_fault_of_the_document() {
    let channel = serde_json::json!({"kind": "whatsapp", "provider": "pigeon", "from": "+918045210677", "credentials": {}});
    let payment =
        serde_json::json!({"mode": "payment_link", "gateway": "razorpay", "credentials": {}});
    let faults = chatbill_channels::open(&tenant(&channel, &payment))
        .err()
        .unwrap();
    assert_eq!(
        (faults[0].pointer.as_str(), faults[0].code),
        ("/channel/provider", "unknown")
    );
    assert!(faults[0].detail.contains("meta"));
}

/// Tenants register these texts with the operators by copying them.
#[test]
fn the_document_has_every_sms_text() {
    let document = include_str!("../../../../docs/providers.md");
    for kind in chatbill_domain::sms::Kind::ALL {
        let (text, variables) = kind.default_text();
        let mut slots: Vec<String> = variables
            .iter()
            .map(|variable| format!("{variable:?}"))
            .collect();
        slots.dedup();
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", kind.as_str())))
            .unwrap();
        assert!(row.contains(&format!("`{text}`")), "{row}");
        let named = row.rsplit('|').nth(1).unwrap().split(',').count();
        assert_eq!(named, slots.len(), "{row}");
    }
}
