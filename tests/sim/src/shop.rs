//! Tenants and their connectors, opened once.

use std::sync::Arc;

use chatbill_domain::connector::{Channel, Gateways};
use chatbill_domain::tenant::Tenant;
use chatbill_testkit::builders;
use chatbill_testkit::memory::MemoryTenants;
use serde_json::json;

use crate::vendors::TOKEN;

/// A tenant with everything that belongs to it.
pub struct Shop {
    /// What is special about it.
    pub name: String,
    /// Its document.
    pub tenant: Tenant,
    /// Its gateway accounts.
    pub gateways: Gateways,
    /// Its messaging provider.
    pub channel: Box<dyn Channel>,
    /// Where `reconcile` finds it.
    pub tenants: MemoryTenants,
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shop({})", self.name)
    }
}

/// Every kind of tenant the runs have: what happens to late money, and how messages go out.
#[must_use]
pub fn shops() -> Vec<Arc<Shop>> {
    let mut shops = Vec::new();
    for late in ["hold", "accept", "refund"] {
        for channel in ["template", "interactive", "auto", "sms_fallback"] {
            let tenant = builders::tenant_with(|document| {
                document["late_payment"] = json!(late);
                if channel == "sms_fallback" {
                    let text = |_: &str| json!("1107");
                    document["channel"] = json!({
                        "kind": "whatsapp", "provider": "exotel", "from": "+918045210677", "fallback_to_sms": true,
                        "credentials": {
                            "account_sid": "acme1", "api_key": "key", "api_token": "token", "callback_token": TOKEN,
                            "dlt_entity_id": "1201", "sender": "ACMEST",
                            "dlt_template_ids": {
                                "invoice": text("invoice"), "paid": text("paid"), "status": text("status"),
                                "refund": text("refund")
                            }
                        }
                    });
                } else {
                    document["channel"]["form"] = json!(channel);
                }
            });
            let open = "the tenants of the simulation are valid";
            shops.push(Arc::new(Shop {
                name: format!("{late} {channel}"),
                gateways: chatbill_gateways::open_all(&tenant).expect(open),
                channel: chatbill_channels::open(&tenant).expect(open),
                tenants: MemoryTenants::new([tenant.clone()]),
                tenant,
            }));
        }
    }
    shops
}

/// The shops in which everything is tried that there is: one of each policy and form.
#[must_use]
pub fn few(shops: &[Arc<Shop>]) -> Vec<Arc<Shop>> {
    shops.iter().step_by(5).cloned().collect()
}
