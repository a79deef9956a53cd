#![doc = include_str!("../README.md")]

use chatbill_domain::connector::{Gateway, GatewayAccount, Gateways};
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

mod members;
mod names;

gateways!(billdesk, payu, razorpay, zaakpay);

/// The names of all gateways, as they stand in tenant documents and webhook URLs.
#[must_use]
pub fn names() -> Vec<&'static str> {
    REGISTRY.iter().map(|entry| entry.name).collect()
}

/// The tenant's gateway. What is wrong with its settings comes back as faults that point into the tenant document.
pub fn open(tenant: &Tenant) -> Result<Box<dyn Gateway>, Vec<Fault>> {
    open_account(&tenant.payment)
}

/// All of the tenant's gateway accounts, the earlier ones too.
pub fn open_all(tenant: &Tenant) -> Result<Gateways, Vec<Fault>> {
    let account = |settings: &PaymentSettings| -> Result<GatewayAccount, Vec<Fault>> {
        Ok(GatewayAccount {
            mark: settings.account.mark(),
            mode: settings.mode,
            gateway: open_account(settings)?,
        })
    };
    let mut faults = Vec::new();
    let mut previous = Vec::new();
    for (index, before) in tenant.payment.previous.iter().enumerate() {
        match account(&tenant.payment.before(before)) {
            Ok(account) => previous.push(account),
            Err(found) => faults.extend(found.into_iter().map(|fault| Fault {
                pointer: fault.pointer.replacen(
                    "/payment",
                    &format!("/payment/previous/{index}"),
                    1,
                ),
                ..fault
            })),
        }
    }
    match account(&tenant.payment) {
        Ok(current) if faults.is_empty() => Ok(Gateways::new(current, previous)),
        Ok(_) => Err(faults),
        Err(mut found) => {
            found.append(&mut faults);
            Err(found)
        }
    }
}

fn open_account(settings: &PaymentSettings) -> Opened {
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
