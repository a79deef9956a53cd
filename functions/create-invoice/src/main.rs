//! `POST /invoices`: takes a bill, stores the order, obtains the payment, queues the invoice message.
//!
//! Calls it makes: DynamoDB UpdateItem, the gateway's create-link call, SQS SendMessage, SSM GetParameter and, when names are made up, GetParametersByPath (cached).

mod handler;

use std::time::Duration;

use chatbill_runtime::boot;
use chatbill_runtime::http_client::HttpClient;
use chatbill_runtime::settings::{Need, Settings};
use chatbill_runtime::system::{SystemClock, SystemRandom};
use chatbill_store::{DynamoOrders, SqsQueue, SsmSettings, SsmTenants};
use handler::{Ports, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    boot::init();
    let settings = Settings::read(&[Need::Queue, Need::PublicUrl])?;
    let aws = chatbill_store::sdk_config()?;
    let ports = Ports {
        store: DynamoOrders::new(&aws, &settings.table),
        queue: SqsQueue::new(&aws, &settings.queue_url),
        tenants: SsmTenants::new(
            &aws,
            &settings.tenants_path,
            settings.is_local(),
            |tenant| chatbill_gateways::open_all(tenant).map(drop),
            SystemClock,
        )
        .unguarded(settings.is_local()),
        settings: SsmSettings::new(&aws, &settings.public_url_parameter, SystemClock),
        // Creating with every doubt cleared up takes several calls, which share the request's budget.
        http: HttpClient::new(Duration::from_secs(6))?,
        clock: SystemClock,
        random: SystemRandom,
    };
    boot::run_api(|request| handle(&ports, request)).await
}
