//! Runs every five minutes: asks gateways about open orders, ends those whose time is over, takes up what a crash left.
//!
//! Calls it makes: DynamoDB Query on the due index, GetItem, UpdateItem; the lookup and create calls of gateways, the payment lookup of Meta;
//! SQS SendMessage; SSM GetParameter and, when names are made up, GetParametersByPath (cached).

mod handler;

use std::time::Duration;

use chatbill_runtime::boot;
use chatbill_runtime::http_client::HttpClient;
use chatbill_runtime::settings::{Need, Settings};
use chatbill_runtime::system::{SystemClock, SystemRandom};
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
        .unguarded(true),
        http: HttpClient::new(Duration::from_secs(10))?,
        clock: SystemClock,
        random: SystemRandom,
    };
    boot::run_schedule(|deadline| handle(&ports, deadline)).await
}
