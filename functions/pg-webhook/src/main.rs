//! `POST /webhooks/{source}/{tenant_id}` and `GET /webhooks/meta/{tenant_id}`.
//!
//! Calls it makes: DynamoDB UpdateItem, SQS SendMessage when a message follows; for second-hand news of a payment DynamoDB GetItem and the lookup
//! call of whoever holds the money; SSM GetParameter and, when names are made up, GetParametersByPath (cached).

mod handler;

use std::time::Duration;

use chatbill_runtime::boot;
use chatbill_runtime::http_client::HttpClient;
use chatbill_runtime::settings::{Need, Settings};
use chatbill_runtime::system::SystemClock;
use chatbill_store::{DynamoOrders, SqsQueue, SsmTenants};
use handler::{Ports, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    boot::init();
    let settings = Settings::read(&[Need::Queue])?;
    let aws = chatbill_store::sdk_config()?;
    let ports = Ports {
        store: DynamoOrders::new(&aws, &settings.table),
        queue: SqsQueue::new(&aws, &settings.queue_url),
        tenants: SsmTenants::new(
            &aws,
            &settings.tenants_path,
            settings.is_local(),
            |tenant| {
                chatbill_gateways::open_all(tenant)?;
                chatbill_channels::open(tenant).map(drop)
            },
            SystemClock,
        )
        .unguarded(settings.is_local()),
        // Razorpay counts an answer after 5 seconds as a failure and comes again; a lookup takes up to two calls.
        http: HttpClient::new(Duration::from_secs(2))?,
        clock: SystemClock,
    };
    boot::run_api(|request| handle(&ports, request)).await
}
