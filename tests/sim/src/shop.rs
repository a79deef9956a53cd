//! Tenants and their connectors, opened once.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chatbill_domain::connector::{Channel, Gateways};
use chatbill_domain::ids::TenantId;
use chatbill_domain::tenant::Tenant;
use chatbill_testkit::builders;
use chatbill_testkit::memory::MemoryTenants;
use serde_json::{Value, json};

use crate::vendors::{NEIGHBOUR_SECRET, SECOND_SECRET, TOKEN};

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
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shop({})", self.name)
    }
}

impl Shop {
    fn open(name: String, change: impl FnOnce(&mut Value)) -> Arc<Self> {
        let tenant = builders::tenant_with(change);
        let open = "the tenants of the simulation are valid";
        Arc::new(Self {
            name,
            gateways: chatbill_gateways::open_all(&tenant).expect(open),
            channel: chatbill_channels::open(&tenant).expect(open),
            tenant,
        })
    }
}

/// The tenants of one run. Their documents may change while orders are open.
#[derive(Debug, Clone)]
pub(crate) struct Tenants {
    current: Arc<Mutex<BTreeMap<TenantId, Arc<Shop>>>>,
    /// Where `reconcile` finds them.
    pub(crate) documents: MemoryTenants,
}

impl Tenants {
    pub(crate) fn new(shop: &Arc<Shop>) -> Self {
        let all = Self {
            current: Arc::default(),
            documents: MemoryTenants::new([]),
        };
        all.put(shop);
        all
    }

    /// A new tenant, or a new document of one.
    pub(crate) fn put(&self, shop: &Arc<Shop>) {
        self.documents.put(shop.tenant.clone());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.insert(shop.tenant.id.clone(), Arc::clone(shop));
    }

    /// What a process that starts now reads.
    pub(crate) fn read(&self, tenant: &TenantId) -> Option<Arc<Shop>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.get(tenant).cloned()
    }
}

/// Every kind of tenant the runs have: what happens to late money, how messages go out, and where the customer pays.
#[must_use]
pub fn shops() -> Vec<Arc<Shop>> {
    every_kind("", |_| ())
}

/// Documents that a tenant's may be changed to while its orders are open: as `docs/runbook.md` says, with the accounts it had before,
/// and with the name of the payment configuration.
#[must_use]
pub fn later_documents() -> Vec<Arc<Shop>> {
    let account = |second: bool| {
        if second {
            json!({"key_id": "rzp_test_2", "key_secret": "second-key-secret", "webhook_secrets": [SECOND_SECRET]})
        } else {
            json!({"key_id": "rzp_test_1", "key_secret": "test-key-secret", "webhook_secrets": ["test-webhook-secret"]})
        }
    };
    thread_local! {
        static OPENED: OnceCell<Vec<Arc<Shop>>> = const { OnceCell::new() };
    }
    let open = || {
        let mut shops = Vec::new();
        for (second, suffix) in [(false, ", first account"), (true, ", second account")] {
            shops.extend(every_kind(suffix, |document| {
                document["payment"]["credentials"] = account(second);
                document["payment"]["configuration_name"] = json!("till");
                document["payment"]["previous"] =
                    json!([{"gateway": "razorpay", "credentials": account(!second)}]);
            }));
        }
        shops
    };
    OPENED.with(|opened| opened.get_or_init(open).clone())
}

fn every_kind(suffix: &str, change: impl Fn(&mut Value)) -> Vec<Arc<Shop>> {
    let mut shops = Vec::new();
    for late in ["hold", "accept", "refund"] {
        for channel in ["template", "interactive", "auto", "sms_fallback", NATIVE] {
            shops.push(Shop::open(
                format!("{late} {channel}{suffix}"),
                |document| {
                    change(document);
                    document["late_payment"] = json!(late);
                    match channel {
                        "sms_fallback" => by_exotel(document),
                        NATIVE => natively(document),
                        form => document["channel"]["form"] = json!(form),
                    }
                },
            ));
        }
    }
    shops
}

/// The customer pays inside WhatsApp.
const NATIVE: &str = "native";

fn natively(document: &mut Value) {
    document["payment"]["mode"] = json!("payment_gateway");
    document["payment"]["configuration_name"] = json!("till");
}

fn by_exotel(document: &mut Value) {
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
}

/// The shops in which everything is tried that there is: one of each policy and form, and one that is paid natively.
#[must_use]
pub fn few(shops: &[Arc<Shop>]) -> Vec<Arc<Shop>> {
    let wanted = [
        "hold template",
        "accept interactive",
        "refund sms_fallback",
        "hold native",
    ];
    let few = wanted.map(|name| shops.iter().find(|shop| shop.name == name).cloned());
    few.into_iter().flatten().collect()
}

/// Another tenant with the same account at the gateway, and the same numbers on its bills.
#[must_use]
pub(crate) fn neighbour() -> Arc<Shop> {
    Shop::open("the neighbour".to_owned(), |document| {
        document["tenant_id"] = json!("bravo");
        document["display_name"] = json!("Bravo Bakery");
        document["receipt_secrets"] = json!(["another-tenant-s-secret"]);
        document["payment"]["credentials"]["webhook_secrets"] = json!([NEIGHBOUR_SECRET]);
        document["channel"]["credentials"]["phone_number_id"] = json!("206540352242922");
        document["late_payment"] = json!("refund");
    })
}
