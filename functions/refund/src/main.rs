//! `POST` and `GET /invoices/{reference_id}/refunds`, `POST /invoices/{reference_id}/settle`.
//!
//! Calls it makes: DynamoDB UpdateItem and GetItem, the gateway's or the provider's refund and refund lookup calls, SQS SendMessage, SSM
//! GetParameter (cached).

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
        // Gateways that work on a refund take their time; the request's budget leaves room for a second call after it.
        http: HttpClient::new(Duration::from_secs(12))?,
        clock: SystemClock,
    };
    boot::run_api(|request| handle(&ports, request)).await
}
