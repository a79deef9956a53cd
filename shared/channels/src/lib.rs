#![doc = include_str!("../README.md")]

use chatbill_domain::connector::Channel;
use chatbill_domain::fault::Fault;
use chatbill_domain::tenant::Tenant;

mod bsp;
mod multipart;
mod native;
mod placeholders;
mod template;
mod wire;

type Opened = Result<Box<dyn Channel>, Vec<Fault>>;

struct Entry {
    name: &'static str,
    open: fn(&Tenant) -> Opened,
}

macro_rules! channels {
    ($($name:ident),+ $(,)?) => {
        $(mod $name;)+
        const REGISTRY: &[Entry] = &[$(Entry { name: stringify!($name), open: $name::open }),+];
    };
}

channels!(meta, exotel, kaleyra);

/// The names of all messaging providers, as they stand in tenant documents and webhook URLs.
#[must_use]
pub fn names() -> Vec<&'static str> {
    REGISTRY.iter().map(|entry| entry.name).collect()
}

/// The tenant's messaging provider. What is wrong with its settings comes back as faults that point into the tenant document.
pub fn open(tenant: &Tenant) -> Result<Box<dyn Channel>, Vec<Fault>> {
    match REGISTRY
        .iter()
        .find(|entry| entry.name == tenant.channel.account.vendor)
    {
        Some(entry) => (entry.open)(tenant),
        None => Err(vec![Fault::new(
            "/channel/provider",
            "unknown",
            format!("must be one of {}", names().join(", ")),
        )]),
    }
}
