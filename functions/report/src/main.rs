//! `GET /reports/day/{date}`: the books of one day.
//!
//! Calls it makes: DynamoDB Query on the day index and BatchGetItem, SSM GetParameter and, when names are made up, GetParametersByPath (cached).

mod csv;
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
    };
    boot::run_api(|request| handle(&ports, request)).await
}
