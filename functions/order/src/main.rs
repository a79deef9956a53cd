//! `GET /invoices/{reference_id}`. It only reads: what changes an order is the function `change`.
//!
//! Calls it makes: DynamoDB GetItem, SSM GetParameter and, when names are made up, GetParametersByPath (cached).

mod handler;

use chatbill_runtime::boot;
use chatbill_runtime::settings::Settings;
use chatbill_runtime::system::SystemClock;
use chatbill_store::{DynamoOrders, SsmTenants};
use handler::{Ports, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    boot::init();
    let settings = Settings::read(&[])?;
    let aws = chatbill_store::sdk_config()?;
    let ports = Ports {
        store: DynamoOrders::new(&aws, &settings.table),
        tenants: SsmTenants::new(
            &aws,
            &settings.tenants_path,
            settings.is_local(),
            |_| Ok(()),
            SystemClock,
        )
        .unguarded(settings.is_local()),
        clock: SystemClock,
    };
    boot::run_api(|request| handle(&ports, request)).await
}
