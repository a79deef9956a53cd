#![doc = include_str!("../README.md")]

mod aws;
mod cache;
mod contacts;
mod days;
mod failure;
mod item;
mod leases;
mod names;
mod orders;
mod queue;
mod settings;
mod tenants;

pub use aws::{
    Credentials, LONGEST_OPERATION, MissingEnvironment, behavior, configured, sdk_config,
};
pub use orders::DynamoOrders;
pub use queue::{SqsDeadLetters, SqsQueue, SqsVisibility};
pub use settings::SsmSettings;
pub use tenants::{Check, SsmTenants};
