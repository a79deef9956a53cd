#![doc = include_str!("../README.md")]

use chatbill_domain::connector::Gateway;
use chatbill_domain::fault::Fault;
use chatbill_domain::tenant::{PaymentSettings, Tenant};

type Opened = Result<Box<dyn Gateway>, Vec<Fault>>;

struct Entry {
    name: &'static str,
    open: fn(&PaymentSettings) -> Opened,
}

macro_rules! gateways {
    ($($name:ident),+ $(,)?) => {
        $(mod $name;)+
        const REGISTRY: &[Entry] = &[$(Entry { name: stringify!($name), open: $name::open }),+];
    };
}

gateways!(billdesk, payu, razorpay, zaakpay);

/// The names of all gateways, as they stand in tenant documents and webhook URLs.
#[must_use]
pub fn names() -> Vec<&'static str> {
    REGISTRY.iter().map(|entry| entry.name).collect()
}

/// The tenant's gateway. What is wrong with its settings comes back as faults that point into the tenant document.
pub fn open(tenant: &Tenant) -> Result<Box<dyn Gateway>, Vec<Fault>> {
    let settings = &tenant.payment;
    match REGISTRY
        .iter()
        .find(|entry| entry.name == settings.account.vendor)
    {
        Some(entry) => (entry.open)(settings),
        None => Err(vec![Fault::new(
            "/payment/gateway",
            "unknown",
            format!("must be one of {}", names().join(", ")),
        )]),
    }
}
