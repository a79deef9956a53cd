//! `GET /r/{token}`, `/r/{token}/qr.png`, `/r/{token}/pay`: the page a customer keeps. `POST /r/{token}`: back to it from a gateway.
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
            |tenant| chatbill_gateways::open_all(tenant).map(drop),
            SystemClock,
        )
        .unguarded(settings.is_local()),
        clock: SystemClock,
    };
    boot::run_api(|request| handle(&ports, request)).await
}
